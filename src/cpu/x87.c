/* cpu/x87.c - the x87: register stack, status, exceptions, arithmetic, conversions, environment, FXSAVE image.
 *
 * Models     SDM vol. 1 chapter 8, vol. 2 (F2XM1 to FYL2XP1, FXSAVE), vol. 3 §22.18; the 80287/80387's FERR# way out where CR0.NE is clear.
 * Contract   cpu_rows_x87() gives decode.c the rows, all of them plain-C instructions. mmx.c asks mmx_enter(). system.c uses the FXSAVE image.
 *            Numbers come from softfloat.c, transcendental functions from x87_math.c.
 * Theory     ES and B of the status word are not stored: they are "some flag is set whose mask bit is clear". So FLDCW, FLDENV and FXRSTOR need no
 *            care. An instruction computes first, then records flags (x87_commit) and learns whether the result may be written.
 *            Waiting instructions begin with x87_begin(), which delivers the exception that an earlier one left behind.
 * Invariants 1. x87_status never holds TOP, ES or B.
 *            2. A memory fault leaves everything as it was: operands are loaded, and results stored, before flags or stack change.
 *            3. An unmasked invalid, denormal or zero-divide leaves stack and memory as they were.
 * Missing    FCS and FDS are kept (later processors write zero).
 */
#include "../machine.h"
#include "cpu.h"
#include "vec.h"

enum { X87_SF = 1 << 6, X87_ES = 1 << 7, X87_C0 = 1 << 8, X87_C1 = 1 << 9, X87_C2 = 1 << 10, X87_TOP = 7 << 11, X87_C3 = 1 << 14, X87_B = 1 << 15,
       X87_CC = X87_C0 | X87_C1 | X87_C2 | X87_C3, X87_STORED = 0x7F | X87_CC };
enum { X87_CW_RESERVED = 0x40, X87_CW_INIT = 0x37F, X87_CW_VALID = 0x1F3F };

#define X87_ST(c, n) (&(c)->x87[((c)->x87_top + (n)) & 7])
#define X87_MODRM_REG(i) ((i)->modrm >> 3 & 7u)
#define X87_MODRM_RM(i) ((i)->modrm & 7u)

static bool x87_pending(const struct cpu *c) { return (c->x87_status & ~c->x87_control & SF_ALL_FLAGS) != 0; }
static uint16_t x87_status_word(const struct cpu *c)
{
    return (uint16_t)((c->x87_status & X87_STORED) | c->x87_top << 11 | (x87_pending(c) ? X87_ES | X87_B : 0));
}
/* After anything that can set or clear ES: FERR# follows it when CR0.NE is clear. */
static void x87_update_pin(struct cpu *c, bool was)
{
    bool now = x87_pending(c);
    if (now != was && !(c->cr0 & CR0_NE))
        chipset_set_ferr(c->emu, now);
}
static void x87_load_status(struct cpu *c, uint16_t sw)
{
    bool was = x87_pending(c);
    c->x87_status = sw & X87_STORED;
    c->x87_top = sw >> 11 & 7;
    x87_update_pin(c, was);
}
static void x87_load_control(struct cpu *c, uint16_t cw)
{
    bool was = x87_pending(c);
    c->x87_control = (uint16_t)((cw & X87_CW_VALID) | X87_CW_RESERVED);
    x87_update_pin(c, was);
}

EMU_PRIV void x87_reset(struct cpu *c, bool power_on)
{
    bool was = x87_pending(c);
    c->x87_control = power_on ? 0x40 : X87_CW_INIT; /* SDM vol. 3 table 9-1 */
    c->x87_status = 0;
    c->x87_top = 0;
    c->x87_tags = power_on ? 0 : 0xFF;
    c->x87_ip = c->x87_dp = 0;
    c->x87_cs = c->x87_ds = 0;
    c->x87_opcode = 0;
    if (power_on)
        memset(c->x87, 0, sizeof c->x87);
    else
        x87_update_pin(c, was);
}

EMU_PRIV int x87_check_pending(struct cpu *c)
{
    if (EMU_LIKELY(!x87_pending(c)))
        return CPU_OK;
    if (c->cr0 & CR0_NE)
        return cpu_raise(c, EXC_MF);
    chipset_set_ferr(c->emu, true); /* the handler of IRQ 13 sorts it out; the instruction goes on as with IGNNE# */
    return CPU_OK;
}

EMU_PRIV int mmx_enter(struct cpu *c)
{
    int r;
    if (c->cr0 & CR0_EM)
        return cpu_raise(c, EXC_UD);
    if (c->cr0 & CR0_TS)
        return cpu_raise(c, EXC_NM);
    r = x87_check_pending(c);
    if (r)
        return r;
    c->x87_top = 0;
    c->x87_tags = 0;
    return CPU_OK;
}

/* ---- stack and flags ---- */
static bool x87_empty(const struct cpu *c, unsigned n) { return c->x87_tags >> ((c->x87_top + n) & 7) & 1; }
static void x87_put(struct cpu *c, unsigned n, struct x87_reg r)
{
    *X87_ST(c, n) = r;
    c->x87_tags &= (uint8_t)~(1u << ((c->x87_top + n) & 7));
}
static void x87_put_num(struct cpu *c, unsigned n, const struct sf_num *v) { x87_put(c, n, sf_pack80(v)); }
static void x87_push(struct cpu *c, struct x87_reg r)
{
    c->x87_top = (c->x87_top - 1) & 7;
    x87_put(c, 0, r);
}
static void x87_pop(struct cpu *c)
{
    c->x87_tags |= (uint8_t)(1u << c->x87_top);
    c->x87_top = (c->x87_top + 1) & 7;
}
static struct x87_reg x87_nan(void)
{
    struct sf_num n = sf_default_nan();
    return sf_pack80(&n);
}

static void x87_add_flags(struct cpu *c, unsigned flags)
{
    bool was = x87_pending(c);
    c->x87_status |= (uint16_t)flags;
    x87_update_pin(c, was);
}
/* Stack overflow or underflow; true: masked, go on with the default NaN. */
static bool x87_stack_fault(struct cpu *c, bool overflow)
{
    c->x87_status &= (uint16_t)~X87_C1;
    x87_add_flags(c, SF_IE | X87_SF | (overflow ? X87_C1 : 0));
    return c->x87_control & SF_IE;
}
static void x87_env(const struct cpu *c, struct sf_env *env)
{
    env->rounding = c->x87_control >> 10 & 3;
    env->flags = 0;
    env->masked = c->x87_control & SF_ALL_FLAGS;
    env->daz = env->ftz = false;
    env->x87 = true;
    env->rounded_up = false;
}
/* Records what an operation raised. False: an unmasked exception forbids its result. */
static bool x87_commit(struct cpu *c, const struct sf_env *env)
{
    unsigned flags = env->flags, stop = flags & ~(unsigned)env->masked & (SF_IE | SF_DE | SF_ZE);
    if (stop)
        flags &= SF_IE | SF_DE | SF_ZE;
    c->x87_status &= (uint16_t)~X87_C1;
    if (env->rounded_up && !stop)
        flags |= X87_C1;
    x87_add_flags(c, flags);
    return !stop;
}
/* Results of FADD, FSUB, FMUL, FDIV, FSQRT are rounded to PC's precision, in the range of the 80-bit format. */
static const struct sf_format x87_formats[4] = { { 24, 15, -16382, 16383 }, { 64, 15, -16382, 16383 }, { 53, 15, -16382, 16383 }, { 64, 15, -16382, 16383 } };
static const struct sf_format *x87_format(const struct cpu *c) { return &x87_formats[c->x87_control >> 8 & 3]; }

/* ---- instruction prologue ---- */
static void x87_note(struct cpu *c, const struct insn *i)
{
    c->x87_opcode = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
    c->x87_ip = c->rip;
    c->x87_cs = c->seg[SEG_CS].selector;
    if (i->memory) {
        c->x87_dp = insn_address(c, i);
        c->x87_ds = c->seg[i->seg].selector;
    }
}
/* For instructions without a memory operand. */
static int x87_begin(struct cpu *c, const struct insn *i)
{
    int r = x87_check_pending(c);
    if (!r)
        x87_note(c, i);
    return r;
}
static int x87_begin_load(struct cpu *c, const struct insn *i, unsigned size, uint64_t *value)
{
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load(c, i->seg, insn_address(c, i), size, value);
    if (!r)
        x87_note(c, i);
    return r;
}
/* The numeric memory operand of an arithmetic or load instruction, by opcode D8-DF. */
static int x87_load_operand(struct cpu *c, const struct insn *i, struct sf_num *n)
{
    static const uint8_t sizes[8] = { 4, 4, 4, 4, 8, 8, 2, 2 };
    unsigned op = i->opcode & 7;
    struct sf_env env;
    struct sf_wide w;
    uint64_t v;
    unsigned size = op == 7 && X87_MODRM_REG(i) == 5 ? 8 : sizes[op];
    int r = x87_begin_load(c, i, size, &v);
    if (r)
        return r;
    x87_env(c, &env);
    if (op == 0 || op == 1) {
        *n = sf_unpack(&env, &sf_f32, v);
    } else if (op == 4 || op == 5) {
        *n = sf_unpack(&env, &sf_f64, v);
    } else {
        w = sf_from_int((uint64_t)sext64(v, size * 8), true);
        *n = sf_round(&env, &sf_f80, &w);
    }
    return CPU_OK;
}

/* ---- arithmetic: the eight operations of modrm.reg, as computed from ST(0) and the other operand ---- */
/* bits that a partial FPREM takes off */
#define X87_PARTIAL_STEP (32 + (diff & 31))
enum { X87_OP_ADD, X87_OP_MUL, X87_OP_COM, X87_OP_COMP, X87_OP_SUB, X87_OP_SUBR, X87_OP_DIV, X87_OP_DIVR };

static void x87_set_order(struct cpu *c, enum sf_order o)
{
    static const uint16_t codes[] = { X87_C0, X87_C3, 0, X87_C0 | X87_C2 | X87_C3 }; /* ORDER sf_order */
    c->x87_status = (uint16_t)((c->x87_status & ~(X87_C0 | X87_C2 | X87_C3)) | codes[o]);
}
/* FCOM and its kind; pops after, unless an unmasked exception forbids. */
static void x87_compare(struct cpu *c, const struct sf_num *b, bool missing, bool quiet, unsigned pops)
{
    struct sf_env env;
    enum sf_order o = SF_UNORDERED;
    bool go;
    x87_env(c, &env);
    if (missing || x87_empty(c, 0)) {
        go = x87_stack_fault(c, false);
    } else {
        struct sf_num a = sf_unpack80(X87_ST(c, 0));
        o = sf_compare(&env, &a, b, quiet);
        go = x87_commit(c, &env);
    }
    x87_set_order(c, o); /* even where the exception is unmasked */
    while (go && pops--)
        x87_pop(c);
}
/* op on ST(0) and other (missing: an empty register), result to ST(dst). */
static void x87_arith(struct cpu *c, unsigned op, const struct sf_num *other, bool missing, unsigned dst, bool pop)
{
    struct sf_env env;
    struct sf_num st0, n;
    struct sf_wide w;
    if (op == X87_OP_COM || op == X87_OP_COMP) {
        x87_compare(c, other, missing, false, op == X87_OP_COMP);
        return;
    }
    if (missing || x87_empty(c, 0)) {
        if (!x87_stack_fault(c, false))
            return;
        n = sf_default_nan();
    } else {
        st0 = sf_unpack80(X87_ST(c, 0));
        x87_env(c, &env);
        switch (op) {
        case X87_OP_ADD: w = sf_add(&env, &st0, other, false); break;
        case X87_OP_MUL: w = sf_mul(&env, &st0, other); break;
        case X87_OP_SUB: w = sf_add(&env, &st0, other, true); break;
        case X87_OP_SUBR: w = sf_add(&env, other, &st0, true); break;
        case X87_OP_DIV: w = sf_div(&env, &st0, other); break;
        default: w = sf_div(&env, other, &st0); break;
        }
        n = sf_round(&env, x87_format(c), &w);
        if (!x87_commit(c, &env))
            return;
    }
    x87_put_num(c, dst, &n);
    if (pop)
        x87_pop(c);
}
static int x87_arith_mem(struct cpu *c, const struct insn *i)
{
    struct sf_num n;
    int r = x87_load_operand(c, i, &n);
    if (!r)
        x87_arith(c, X87_MODRM_REG(i), &n, false, 0, false);
    return r;
}
static int x87_arith_reg(struct cpu *c, const struct insn *i) /* D8, DC, DE */
{
    unsigned n = X87_MODRM_RM(i), op = X87_MODRM_REG(i);
    struct sf_num other;
    int r = x87_begin(c, i);
    if (r)
        return r;
    other = sf_unpack80(X87_ST(c, n));
    x87_arith(c, op, &other, x87_empty(c, n), i->opcode == 0xD8 ? 0 : n, i->opcode == 0xDE);
    return CPU_OK;
}
static int x87_compare_reg(struct cpu *c, const struct insn *i, bool quiet, unsigned pops)
{
    unsigned n = X87_MODRM_RM(i);
    struct sf_num other;
    int r = x87_begin(c, i);
    if (r)
        return r;
    other = sf_unpack80(X87_ST(c, n));
    x87_compare(c, &other, x87_empty(c, n), quiet, pops);
    return CPU_OK;
}
static int x87_fcom(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, false, 0); }
static int x87_fcomp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, false, 1); }
static int x87_fcompp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, false, 2); }
static int x87_fucom(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, true, 0); }
static int x87_fucomp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, true, 1); }
static int x87_fucompp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, true, 2); }

static int x87_compare_eflags(struct cpu *c, const struct insn *i, bool quiet, bool pop)
{
    static const uint8_t flags[] = { FLAG_CF, FLAG_ZF, 0, FLAG_CF | FLAG_PF | FLAG_ZF }; /* ORDER sf_order */
    unsigned n = X87_MODRM_RM(i);
    enum sf_order o = SF_UNORDERED;
    struct sf_env env;
    bool go;
    int r = x87_begin(c, i);
    if (r)
        return r;
    x87_env(c, &env);
    if (x87_empty(c, 0) || x87_empty(c, n)) {
        go = x87_stack_fault(c, false);
    } else {
        struct sf_num a = sf_unpack80(X87_ST(c, 0)), b = sf_unpack80(X87_ST(c, n));
        uint16_t c1 = c->x87_status & X87_C1; /* not touched */
        o = sf_compare(&env, &a, &b, quiet);
        go = x87_commit(c, &env);
        c->x87_status |= c1;
    }
    cpu_set_arith_flags(c, flags[o]);
    if (go && pop)
        x87_pop(c);
    return CPU_OK;
}
static int x87_fcomi(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, false, false); }
static int x87_fcomip(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, false, true); }
static int x87_fucomi(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, true, false); }
static int x87_fucomip(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, true, true); }

static int x87_ftst(struct cpu *c, const struct insn *i)
{
    struct sf_num zero = { 0, 0, SF_ZERO, false, false };
    int r = x87_begin(c, i);
    if (!r)
        x87_compare(c, &zero, false, false, 0);
    return r;
}
static int x87_fxam(struct cpu *c, const struct insn *i)
{
    const struct x87_reg *st0 = X87_ST(c, 0);
    unsigned code;
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, 0)) {
        code = X87_C3 | X87_C0;
    } else {
        struct sf_num n = sf_unpack80(st0);
        switch (n.cls) {
        case SF_ZERO: code = X87_C3; break;
        case SF_FINITE: code = n.denormal ? X87_C3 | X87_C2 : X87_C2; break;
        case SF_INF: code = X87_C2 | X87_C0; break;
        case SF_UNSUPPORTED: code = 0; break;
        default: code = X87_C0; break;
        }
    }
    if (st0->exp >> 15)
        code |= X87_C1;
    c->x87_status = (uint16_t)((c->x87_status & ~X87_CC) | code);
    return CPU_OK;
}

/* ---- loads ---- */
/* Room for a push? If not: stack fault, and the default NaN where that is masked. True: go on and push. */
static bool x87_room(struct cpu *c)
{
    if (EMU_LIKELY(x87_empty(c, 7)))
        return true;
    if (x87_stack_fault(c, true))
        x87_push(c, x87_nan());
    return false;
}
static int x87_fld_mem(struct cpu *c, const struct insn *i) /* m32, m64 and the integers */
{
    struct sf_env env;
    struct sf_num n;
    int r = x87_load_operand(c, i, &n);
    if (r)
        return r;
    if (!x87_room(c))
        return CPU_OK;
    x87_env(c, &env);
    if (n.cls >= SF_QNAN)
        n = sf_propagate(&env, &n, &n);
    else if (n.denormal)
        env.flags |= SF_DE;
    if (x87_commit(c, &env) || !(env.flags & SF_IE)) /* a denormal is pushed even where DE is unmasked */
        x87_push(c, sf_pack80(&n));
    return CPU_OK;
}
static int x87_fld_m80(struct cpu *c, const struct insn *i)
{
    uint8_t image[10];
    struct x87_reg v;
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, 10);
    if (r)
        return r;
    x87_note(c, i);
    v.mant = ld64le(image);
    v.exp = ld16le(image + 8);
    if (x87_room(c)) {
        c->x87_status &= (uint16_t)~X87_C1;
        x87_push(c, v);
    }
    return CPU_OK;
}
static int x87_fld_reg(struct cpu *c, const struct insn *i)
{
    unsigned n = X87_MODRM_RM(i);
    struct x87_reg v = *X87_ST(c, n);
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, n)) {
        if (!x87_stack_fault(c, false))
            return CPU_OK;
        v = x87_nan();
        x87_push(c, v);
        return CPU_OK;
    }
    if (x87_room(c)) {
        c->x87_status &= (uint16_t)~X87_C1;
        x87_push(c, v);
    }
    return CPU_OK;
}
/* FLD1 .. FLDZ. The exact value, its last bit, and what lies below it, for the rounding modes (SDM vol. 1 §8.3.8: RC counts). */
static int x87_fld_const(struct cpu *c, const struct insn *i)
{
    static const struct {
        uint64_t mant; /* rounded to nearest */
        uint16_t exp;
        int8_t below; /* sign of (exact - mant) */
    } k[7] = {
        { UINT64_C(0x8000000000000000), 0x3FFF, 0 },  /* 1 */
        { UINT64_C(0xD49A784BCD1B8AFE), 0x4000, 1 },  /* log2(10) */
        { UINT64_C(0xB8AA3B295C17F0BC), 0x3FFF, -1 }, /* log2(e) */
        { UINT64_C(0xC90FDAA22168C235), 0x4000, -1 }, /* pi */
        { UINT64_C(0x9A209A84FBCFF799), 0x3FFD, -1 }, /* log10(2) */
        { UINT64_C(0xB17217F7D1CF79AC), 0x3FFE, -1 }, /* ln(2) */
        { 0, 0, 0 },
    };
    unsigned n = X87_MODRM_RM(i), rc = c->x87_control >> 10 & 3;
    struct x87_reg v;
    int r = x87_begin(c, i);
    if (r)
        return r;
    v.mant = k[n].mant;
    v.exp = k[n].exp;
    if (k[n].below < 0 && (rc == SF_DOWN || rc == SF_CHOP))
        v.mant--;
    if (k[n].below > 0 && rc == SF_UP)
        v.mant++;
    if (x87_room(c)) {
        c->x87_status &= (uint16_t)~X87_C1;
        x87_push(c, v);
    }
    return CPU_OK;
}

/* ---- stores ---- */
/* Stores ST(0) in `size` bytes computed by the caller, then flags and pop. write: the flags allow it. */
static int x87_finish_store(struct cpu *c, const struct insn *i, struct sf_env *env, uint64_t value, unsigned size, bool pop)
{
    unsigned unmasked = env->flags & ~(unsigned)env->masked;
    bool write = !(unmasked & ~(unsigned)SF_PE);
    int r;
    if (write) {
        r = cpu_store(c, i->seg, insn_address(c, i), size, value);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (!write) /* nothing was rounded */
        env->flags &= (uint8_t)~SF_PE, env->rounded_up = false;
    if (x87_commit(c, env) && write && pop)
        x87_pop(c);
    return CPU_OK;
}
/* ST(0) is empty: the masked answer is stored. */
static int x87_store_missing(struct cpu *c, const struct insn *i, uint64_t value, unsigned size, bool pop)
{
    bool masked = c->x87_control & SF_IE;
    if (masked) {
        int r = cpu_store(c, i->seg, insn_address(c, i), size, value);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (x87_stack_fault(c, false) && pop)
        x87_pop(c);
    return CPU_OK;
}
static int x87_store_float(struct cpu *c, const struct insn *i, const struct sf_format *f, unsigned size, bool pop)
{
    struct sf_num nan = sf_default_nan(), n;
    struct sf_env env;
    struct sf_wide w;
    int r = x87_check_pending(c);
    if (r)
        return r;
    if (x87_empty(c, 0))
        return x87_store_missing(c, i, sf_pack(f, &nan), size, pop);
    x87_env(c, &env);
    env.x87 = false; /* no biased results in memory */
    n = sf_unpack80(X87_ST(c, 0));
    if (n.cls >= SF_QNAN)
        n = sf_propagate(&env, &n, &n);
    w = sf_widen(&n);
    n = sf_round(&env, f, &w);
    return x87_finish_store(c, i, &env, sf_pack(f, &n), size, pop);
}
static int x87_fst_m32(struct cpu *c, const struct insn *i) { return x87_store_float(c, i, &sf_f32, 4, X87_MODRM_REG(i) == 3); }
static int x87_fst_m64(struct cpu *c, const struct insn *i) { return x87_store_float(c, i, &sf_f64, 8, X87_MODRM_REG(i) == 3); }
static int x87_store_int(struct cpu *c, const struct insn *i, unsigned size, bool pop, bool truncate)
{
    struct sf_env env;
    struct sf_num n;
    uint64_t v;
    int r = x87_check_pending(c);
    if (r)
        return r;
    if (x87_empty(c, 0))
        return x87_store_missing(c, i, UINT64_C(1) << (size * 8 - 1), size, pop);
    x87_env(c, &env);
    n = sf_unpack80(X87_ST(c, 0));
    v = sf_to_int(&env, &n, size * 8, truncate ? SF_CHOP : env.rounding);
    return x87_finish_store(c, i, &env, v, size, pop);
}
static int x87_fist_m16(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 2, X87_MODRM_REG(i) == 3, false); }
static int x87_fist_m32(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 4, X87_MODRM_REG(i) == 3, false); }
static int x87_fistp_m64(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 8, true, false); }
static int x87_fisttp_m16(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 2, true, true); }
static int x87_fisttp_m32(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 4, true, true); }
static int x87_fisttp_m64(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 8, true, true); }

static int x87_fstp_m80(struct cpu *c, const struct insn *i)
{
    uint8_t image[10];
    struct x87_reg v = *X87_ST(c, 0);
    bool missing = x87_empty(c, 0), write = !missing || (c->x87_control & SF_IE);
    int r = x87_check_pending(c);
    if (r)
        return r;
    if (missing)
        v = x87_nan();
    st64le(image, v.mant);
    st16le(image + 8, v.exp);
    if (write) {
        r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, 10);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (missing)
        x87_stack_fault(c, false);
    else
        c->x87_status &= (uint16_t)~X87_C1;
    if (write)
        x87_pop(c);
    return CPU_OK;
}
static int x87_fst_reg(struct cpu *c, const struct insn *i)
{
    bool pop = X87_MODRM_REG(i) == 3 || i->opcode == 0xDF;
    struct x87_reg v = *X87_ST(c, 0);
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, 0) && i->opcode == 0xD9) { /* the alias "fstpnce": pops, and that is all */
        c->x87_status &= (uint16_t)~X87_C1;
        x87_pop(c);
        return CPU_OK;
    }
    if (x87_empty(c, 0)) {
        if (!x87_stack_fault(c, false))
            return CPU_OK;
        v = x87_nan();
    } else {
        c->x87_status &= (uint16_t)~X87_C1;
    }
    x87_put(c, X87_MODRM_RM(i), v);
    if (pop)
        x87_pop(c);
    return CPU_OK;
}

/* ---- packed decimal: 18 digits and a sign in 10 bytes ---- */
static int x87_fbld(struct cpu *c, const struct insn *i)
{
    uint8_t image[10];
    struct sf_env env;
    struct sf_wide w;
    struct sf_num n;
    uint64_t v = 0;
    unsigned k;
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, 10);
    if (r)
        return r;
    x87_note(c, i);
    if (!x87_room(c))
        return CPU_OK;
    for (k = 9; k--;)
        v = v * 100 + (image[k] >> 4) * 10u + (image[k] & 15u);
    x87_env(c, &env);
    w = sf_from_int(v, false);
    w.sign = image[9] >> 7;
    n = sf_round(&env, &sf_f80, &w);
    x87_commit(c, &env);
    x87_push(c, sf_pack80(&n));
    return CPU_OK;
}
static int x87_fbstp(struct cpu *c, const struct insn *i)
{
    static const uint8_t indefinite[10] = { 0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF };
    uint8_t image[10];
    struct sf_env env;
    bool missing = x87_empty(c, 0), write;
    int r = x87_check_pending(c);
    if (r)
        return r;
    x87_env(c, &env);
    memcpy(image, indefinite, 10);
    if (!missing) {
        struct sf_num n = sf_unpack80(X87_ST(c, 0));
        uint64_t v = sf_to_int(&env, &n, 64, env.rounding);
        if (n.sign)
            v = 0 - v;
        if (!(env.flags & SF_IE) && v < UINT64_C(1000000000000000000)) {
            unsigned k;
            for (k = 0; k < 9; k++, v /= 100)
                image[k] = (uint8_t)(v % 10 | v / 10 % 10 << 4);
            image[9] = n.sign ? 0x80 : 0;
        } else {
            env.flags = SF_IE;
            env.rounded_up = false;
        }
    } else {
        env.flags = SF_IE;
    }
    write = !(env.flags & SF_IE) || (env.masked & SF_IE);
    if (write) {
        r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, 10);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (missing)
        x87_stack_fault(c, false);
    else
        x87_commit(c, &env);
    if (write)
        x87_pop(c);
    return CPU_OK;
}

/* ---- register moves ---- */
static int x87_fxch(struct cpu *c, const struct insn *i)
{
    unsigned n = X87_MODRM_RM(i);
    struct x87_reg a, b;
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C1;
    if ((x87_empty(c, 0) || x87_empty(c, n)) && !x87_stack_fault(c, false))
        return CPU_OK;
    a = x87_empty(c, 0) ? x87_nan() : *X87_ST(c, 0);
    b = x87_empty(c, n) ? x87_nan() : *X87_ST(c, n);
    x87_put(c, 0, b);
    x87_put(c, n, a);
    return CPU_OK;
}
static int x87_fcmov(struct cpu *c, const struct insn *i)
{
    unsigned n = X87_MODRM_RM(i);
    uint32_t f = cpu_arith_flags(c);
    bool cond;
    int r = x87_begin(c, i);
    if (r)
        return r;
    switch (X87_MODRM_REG(i)) {
    case 0: cond = (f & FLAG_CF) != 0; break;
    case 1: cond = (f & FLAG_ZF) != 0; break;
    case 2: cond = (f & (FLAG_CF | FLAG_ZF)) != 0; break;
    default: cond = (f & FLAG_PF) != 0; break;
    }
    if (i->opcode == 0xDB)
        cond = !cond;
    if (x87_empty(c, 0) || x87_empty(c, n)) { /* whatever the condition says */
        if (x87_stack_fault(c, false))
            x87_put(c, 0, x87_nan());
        return CPU_OK;
    }
    if (cond)
        x87_put(c, 0, *X87_ST(c, n));
    return CPU_OK;
}
static int x87_fchs_fabs(struct cpu *c, const struct insn *i)
{
    struct x87_reg v = *X87_ST(c, 0);
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, 0)) {
        if (!x87_stack_fault(c, false))
            return CPU_OK;
        v = x87_nan();
    } else {
        c->x87_status &= (uint16_t)~X87_C1;
        v.exp = X87_MODRM_RM(i) ? v.exp & 0x7FFF : v.exp ^ 0x8000;
    }
    x87_put(c, 0, v);
    return CPU_OK;
}
static int x87_ffree(struct cpu *c, const struct insn *i)
{
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C1;
    c->x87_tags |= (uint8_t)(1u << ((c->x87_top + X87_MODRM_RM(i)) & 7));
    if (i->opcode == 0xDF)
        x87_pop(c);
    return CPU_OK;
}
static int x87_fincstp(struct cpu *c, const struct insn *i)
{
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C1;
    c->x87_top = (c->x87_top + (X87_MODRM_RM(i) == 7 ? 1 : 7)) & 7;
    return CPU_OK;
}
static int x87_fnop(struct cpu *c, const struct insn *i) { return x87_begin(c, i); }

/* ---- functions of ST(0) alone ---- */
/* ST(0) := n where flags allow. */
static void x87_finish_unary(struct cpu *c, const struct sf_env *env, const struct sf_num *n)
{
    if (x87_commit(c, env))
        x87_put_num(c, 0, n);
}
/* Loads ST(0); false: empty, dealt with. */
static bool x87_get_st0(struct cpu *c, struct sf_num *n)
{
    if (x87_empty(c, 0)) {
        if (x87_stack_fault(c, false))
            x87_put(c, 0, x87_nan());
        return false;
    }
    *n = sf_unpack80(X87_ST(c, 0));
    return true;
}
static int x87_fsqrt(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    w = sf_sqrt(&env, &n);
    n = sf_round(&env, x87_format(c), &w);
    x87_finish_unary(c, &env, &n);
    return CPU_OK;
}
static int x87_frndint(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n, v;
    int r = x87_begin(c, i);
    if (r || !x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    v = sf_round_int(&env, &n, env.rounding);
    x87_finish_unary(c, &env, &v);
    return CPU_OK;
}
static int x87_f2xm1(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    if (n.cls >= SF_QNAN) {
        n = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        if (n.sign) { /* 2^-inf - 1 */
            n.cls = SF_FINITE;
            n.mant = UINT64_C(1) << 63;
            n.exp = 0;
        }
    } else if (n.cls == SF_FINITE) {
        if (n.exp >= 0) {
            /* +-1 are exact; beyond, the result is undefined: hardware leaves ST(0) as it is */
            env.flags |= SF_PE;
            if (n.exp == 0 && n.mant == UINT64_C(1) << 63 && n.sign)
                n.exp = -1;
        } else {
            w = x87_math_exp2m1(&n);
            n = sf_round(&env, &sf_f80, &w);
        }
    }
    x87_finish_unary(c, &env, &n);
    return CPU_OK;
}
/* FSIN, FCOS. Beyond 2^63: C2 is set and ST(0) stays. */
static int x87_fsin_fcos(struct cpu *c, const struct insn *i)
{
    bool cosine = X87_MODRM_RM(i) == 7;
    struct sf_env env;
    struct sf_num n;
    struct sf_wide s, k;
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C2;
    if (!x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    if (n.cls >= SF_QNAN) {
        n = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        n = sf_invalid(&env);
    } else if (n.cls == SF_ZERO) {
        if (cosine) {
            n.cls = SF_FINITE;
            n.sign = false;
            n.mant = UINT64_C(1) << 63;
            n.exp = 0;
        }
    } else if (n.exp >= 63) {
        c->x87_status = (uint16_t)((c->x87_status & ~X87_C1) | X87_C2);
        return CPU_OK;
    } else {
        x87_math_sincos(&n, &s, &k);
        n = sf_round(&env, &sf_f80, cosine ? &k : &s);
    }
    x87_finish_unary(c, &env, &n);
    return CPU_OK;
}

/* ---- functions that push: FSINCOS, FPTAN, FXTRACT ---- */
/* The new ST(0) and ST(1). */
static void x87_finish_push(struct cpu *c, const struct sf_env *env, const struct sf_num *st1, const struct sf_num *st0)
{
    if (x87_commit(c, env)) {
        x87_put_num(c, 0, st1);
        x87_push(c, sf_pack80(st0));
    }
}
/* Loads ST(0) and checks that a push has room; false: dealt with. */
static bool x87_get_push(struct cpu *c, struct sf_num *n)
{
    bool missing = x87_empty(c, 0);
    if (missing || !x87_empty(c, 7)) {
        if (x87_stack_fault(c, !missing)) {
            x87_put(c, 0, x87_nan());
            x87_push(c, x87_nan());
        }
        return false;
    }
    *n = sf_unpack80(X87_ST(c, 0));
    return true;
}
static int x87_fsincos_fptan(struct cpu *c, const struct insn *i)
{
    bool tangent = X87_MODRM_RM(i) == 2;
    struct sf_num n, first, second, one = { UINT64_C(1) << 63, 0, SF_FINITE, false, false };
    struct sf_env env, env2;
    struct sf_wide s, k;
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C2;
    if (!x87_get_push(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    first = second = n;
    if (n.cls >= SF_QNAN) {
        first = second = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        first = second = sf_invalid(&env);
    } else if (n.cls == SF_ZERO) {
        second = one;
    } else if (n.exp >= 63) {
        c->x87_status = (uint16_t)((c->x87_status & ~X87_C1) | X87_C2);
        return CPU_OK;
    } else if (tangent) {
        s = x87_math_tan(&n);
        first = sf_round(&env, &sf_f80, &s);
        second = one;
    } else {
        env2 = env;
        x87_math_sincos(&n, &s, &k);
        first = sf_round(&env, &sf_f80, &s);
        second = sf_round(&env2, &sf_f80, &k);
        env.flags |= env2.flags;
        env.rounded_up = env2.rounded_up;
    }
    x87_finish_push(c, &env, &first, &second);
    return CPU_OK;
}
static int x87_fxtract(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n, exponent, significand;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_push(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    exponent = significand = n;
    if (n.cls >= SF_QNAN) {
        exponent = significand = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        exponent.sign = false;
    } else if (n.cls == SF_ZERO) {
        env.flags |= SF_ZE;
        exponent.cls = SF_INF;
        exponent.mant = UINT64_C(1) << 63;
        exponent.sign = true;
    } else {
        w = sf_from_int((uint64_t)(int64_t)n.exp, true);
        exponent = sf_round(&env, &sf_f80, &w);
        significand.exp = 0;
        significand.denormal = false;
    }
    x87_finish_push(c, &env, &exponent, &significand);
    return CPU_OK;
}

/* ---- functions of ST(0) and ST(1) ---- */
/* Loads both; false: one is empty, dealt with: the default NaN goes to ST(dst), then a pop where the function pops. */
static bool x87_get_both(struct cpu *c, struct sf_num *st0, struct sf_num *st1, bool pops)
{
    if (x87_empty(c, 0) || x87_empty(c, 1)) {
        if (x87_stack_fault(c, false)) {
            x87_put(c, pops ? 1 : 0, x87_nan());
            if (pops)
                x87_pop(c);
        }
        return false;
    }
    *st0 = sf_unpack80(X87_ST(c, 0));
    *st1 = sf_unpack80(X87_ST(c, 1));
    return true;
}
static void x87_finish_pop(struct cpu *c, const struct sf_env *env, const struct sf_num *n)
{
    if (x87_commit(c, env)) {
        x87_put_num(c, 1, n);
        x87_pop(c);
    }
}
static void x87_note_denormals(struct sf_env *env, const struct sf_num *a, const struct sf_num *b)
{
    if (a->denormal || b->denormal)
        env->flags |= SF_DE;
}
static struct sf_num x87_special(unsigned cls, bool sign)
{
    struct sf_num n = { 0, 0, SF_ZERO, false, false };
    n.cls = (uint8_t)cls;
    n.sign = sign;
    if (cls == SF_INF)
        n.mant = UINT64_C(1) << 63;
    return n;
}

static int x87_fscale(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num a, b;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &a, &b, false))
        return r;
    x87_env(c, &env);
    if (a.cls >= SF_QNAN || b.cls >= SF_QNAN) {
        a = sf_propagate(&env, &a, &b);
    } else if (b.cls == SF_INF) {
        if (a.cls == (b.sign ? SF_INF : SF_ZERO)) {
            a = sf_invalid(&env);
        } else {
            x87_note_denormals(&env, &a, &b);
            a = x87_special(b.sign ? SF_ZERO : SF_INF, a.sign);
        }
    } else {
        x87_note_denormals(&env, &a, &b);
        if (a.cls == SF_FINITE) {
            int32_t n = 0;
            if (b.cls == SF_FINITE && b.exp >= 0)
                n = b.exp > 16 ? 0x20000 : (int32_t)(b.mant >> (63 - b.exp));
            w = sf_widen(&a);
            w.exp += b.sign ? -n : n;
            a = sf_round(&env, &sf_f80, &w);
        }
    }
    x87_finish_unary(c, &env, &a);
    return CPU_OK;
}

/* FPREM (quotient cut) and FPREM1 (quotient to nearest). Up to 63 exponents apart at a time. */
static int x87_fprem(struct cpu *c, const struct insn *i)
{
    bool nearest = X87_MODRM_RM(i) == 5, partial = false;
    struct sf_env env;
    struct sf_num a, b;
    struct sf_wide w;
    uint64_t q = 0, rem;
    int32_t diff;
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C2;
    if (!x87_get_both(c, &a, &b, false))
        return CPU_OK;
    x87_env(c, &env);
    if (a.cls >= SF_QNAN || b.cls >= SF_QNAN) {
        a = sf_propagate(&env, &a, &b);
    } else if (a.cls == SF_INF || b.cls == SF_ZERO) {
        a = sf_invalid(&env);
    } else {
        x87_note_denormals(&env, &a, &b);
        diff = a.exp - b.exp;
        w = sf_widen(&a);
        if (a.cls == SF_FINITE && b.cls == SF_FINITE && diff >= (nearest ? -1 : 0)) {
            int32_t n = diff; /* quotient bits after the first */
            if (diff >= 64) {
                partial = true;
                n = X87_PARTIAL_STEP;
            }
            w.exp = b.exp + diff - n;
            if (n < 0) {
                rem = a.mant >> 1; /* FPREM1, |a| a little under |b|: keep the lost bit below */
                w.hi = rem;
                w.lo = a.mant << 63;
            } else {
                rem = a.mant;
                if (rem >= b.mant) {
                    rem -= b.mant;
                    q = 1;
                }
                if (n) {
                    uint64_t low = div128(rem >> (64 - n), rem << n, b.mant, &rem);
                    q = (q << n) + low;
                }
                w.hi = rem;
                w.lo = 0;
            }
            if (nearest && !partial) {
                /* 2 * rem against b */
                uint64_t twice_hi = w.hi >> 63, twice_lo = w.hi << 1 | w.lo >> 63;
                bool above = twice_hi || twice_lo > b.mant, tie = !twice_hi && twice_lo == b.mant;
                if (n < 0)
                    tie = tie && !(w.lo << 1);
                if (above || (tie && (q & 1))) {
                    w.sign = !w.sign;
                    w.hi = b.mant - w.hi - (w.lo != 0);
                    w.lo = 0 - w.lo;
                    q++;
                }
            }
            if (!(w.hi | w.lo)) {
                w.cls = SF_ZERO;
            } else {
                if (!w.hi) {
                    w.hi = w.lo;
                    w.lo = 0;
                    w.exp -= 64;
                }
                n = (int32_t)clz64(w.hi);
                if (n) {
                    w.hi = w.hi << n | w.lo >> (64 - n);
                    w.lo <<= n;
                    w.exp -= n;
                }
            }
        }
        if (b.cls != SF_INF) {
            a = sf_round(&env, &sf_f80, &w);
            env.rounded_up = false;
        } else if (a.denormal) { /* stays as it is, not even an underflow */
            a.mant >>= -16382 - a.exp;
            a.exp = -16382;
        }
    }
    if (x87_commit(c, &env)) {
        unsigned code = partial ? X87_C2 : (q & 4 ? X87_C0 : 0u) | (q & 2 ? X87_C3 : 0u) | (q & 1 ? X87_C1 : 0u);
        if (a.cls == SF_QNAN)
            code = c->x87_status & (X87_C0 | X87_C3);
        c->x87_status = (uint16_t)((c->x87_status & ~X87_CC) | code);
        x87_put_num(c, 0, &a);
    }
    return CPU_OK;
}

static int x87_fpatan(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num x, y;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &x, &y, true))
        return r;
    x87_env(c, &env);
    if (x.cls >= SF_QNAN || y.cls >= SF_QNAN) {
        y = sf_propagate(&env, &x, &y);
    } else {
        x87_note_denormals(&env, &x, &y);
        if (!x.sign && (y.cls == SF_ZERO || (y.cls == SF_FINITE && x.cls == SF_INF))) {
            y = x87_special(SF_ZERO, y.sign);
        } else {
            w = x87_math_atan2(&y, &x);
            y = sf_round(&env, &sf_f80, &w);
        }
    }
    x87_finish_pop(c, &env, &y);
    return CPU_OK;
}

static int x87_fyl2x(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num x, y;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &x, &y, true))
        return r;
    x87_env(c, &env);
    if (x.cls >= SF_QNAN || y.cls >= SF_QNAN) {
        y = sf_propagate(&env, &x, &y);
    } else if (x.cls != SF_ZERO && x.sign) {
        y = sf_invalid(&env);
    } else if (x.cls == SF_ZERO) { /* log = -inf */
        if (y.cls == SF_ZERO) {
            y = sf_invalid(&env);
        } else {
            if (y.cls == SF_FINITE)
                env.flags |= SF_ZE;
            y = x87_special(SF_INF, !y.sign);
        }
    } else {
        bool one = x.cls == SF_FINITE && x.exp == 0 && x.mant == UINT64_C(1) << 63, below = x.cls == SF_FINITE && x.exp < 0;
        if ((y.cls == SF_ZERO && x.cls == SF_INF) || (y.cls == SF_INF && one)) {
            y = sf_invalid(&env);
        } else {
            x87_note_denormals(&env, &x, &y);
            if (y.cls == SF_INF || x.cls == SF_INF) {
                y = x87_special(SF_INF, y.sign ^ below);
            } else if (y.cls == SF_ZERO || one) {
                y = x87_special(SF_ZERO, y.sign ^ below);
            } else {
                w = x87_math_ylog2(&y, &x);
                y = sf_round(&env, &sf_f80, &w);
                env.flags |= SF_PE; /* powers of two too */
                if (y.cls == SF_FINITE && !(y.mant >> 63))
                    env.flags |= SF_UE;
            }
        }
    }
    x87_finish_pop(c, &env, &y);
    return CPU_OK;
}
static int x87_fyl2xp1(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num x, y;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &x, &y, true))
        return r;
    x87_env(c, &env);
    if (x.cls >= SF_QNAN || y.cls >= SF_QNAN) {
        y = sf_propagate(&env, &x, &y);
    } else if (x.cls == SF_INF && (x.sign || y.cls == SF_ZERO)) {
        y = sf_invalid(&env);
    } else if (y.cls == SF_INF && x.cls == SF_ZERO) {
        y = sf_invalid(&env);
    } else {
        x87_note_denormals(&env, &x, &y);
        if (y.cls == SF_INF || x.cls == SF_INF) {
            y = x87_special(SF_INF, y.sign ^ x.sign);
        } else if (y.cls == SF_ZERO || x.cls == SF_ZERO) {
            y = x87_special(SF_ZERO, y.sign ^ x.sign);
        } else if (x.sign && x.exp >= 0) { /* x <= -1: outside the documented domain; what hardware does */
            y = x;
            env.flags |= SF_PE;
        } else {
            w = x87_math_ylog2p1(&y, &x);
            y = sf_round(&env, &sf_f80, &w);
            env.flags |= SF_PE;
            if (y.cls == SF_FINITE && !(y.mant >> 63))
                env.flags |= SF_UE;
        }
    }
    x87_finish_pop(c, &env, &y);
    return CPU_OK;
}

/* ---- control ---- */
static int x87_fninit(struct cpu *c, const struct insn *i)
{
    (void)i;
    x87_reset(c, false);
    return CPU_OK;
}
static int x87_fnclex(struct cpu *c, const struct insn *i)
{
    bool was = x87_pending(c);
    (void)i;
    c->x87_status &= X87_CC;
    x87_update_pin(c, was);
    return CPU_OK;
}
static int x87_8087_nop(struct cpu *c, const struct insn *i) /* FNENI, FNDISI, FNSETPM */
{
    (void)c, (void)i;
    return CPU_OK;
}
static int x87_fwait(struct cpu *c, const struct insn *i)
{
    (void)i;
    if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        return cpu_raise(c, EXC_NM);
    return x87_check_pending(c);
}
static int x87_fldcw(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load(c, i->seg, insn_address(c, i), 2, &v);
    if (!r)
        x87_load_control(c, (uint16_t)v);
    return r;
}
static int x87_fnstcw(struct cpu *c, const struct insn *i) { return cpu_store(c, i->seg, insn_address(c, i), 2, c->x87_control); }
static int x87_fnstsw(struct cpu *c, const struct insn *i) { return cpu_store(c, i->seg, insn_address(c, i), 2, x87_status_word(c)); }
static int x87_fnstsw_ax(struct cpu *c, const struct insn *i)
{
    (void)i;
    cpu_put16(c, GPR_RAX, x87_status_word(c));
    return CPU_OK;
}

/* ---- environment ---- */
EMU_PRIV uint16_t x87_tag_word(const struct cpu *c)
{
    unsigned k, tags = 0;
    for (k = 0; k < 8; k++) {
        unsigned tag = 3;
        if (!(c->x87_tags >> k & 1)) {
            struct sf_num n = sf_unpack80(&c->x87[k]);
            tag = n.cls == SF_ZERO ? 1 : n.cls == SF_FINITE && !n.denormal ? 0 : 2;
        }
        tags |= tag << (2 * k);
    }
    return (uint16_t)tags;
}
static void x87_load_tags(struct cpu *c, uint16_t tags)
{
    unsigned k;
    c->x87_tags = 0;
    for (k = 0; k < 8; k++)
        if ((tags >> (2 * k) & 3) == 3)
            c->x87_tags |= (uint8_t)(1u << k);
}
/* 14 bytes for 16-bit operand size, 28 else; SDM vol. 1 figures 8-9 to 8-12. Returns the length. */
static unsigned x87_pack_env(const struct cpu *c, unsigned opsize, uint8_t image[28])
{
    bool real = c->mode == MODE_REAL || c->mode == MODE_V86;
    uint32_t ip = (uint32_t)c->x87_ip, dp = (uint32_t)c->x87_dp;
    if (real) {
        ip += (uint32_t)c->x87_cs << 4;
        dp += (uint32_t)c->x87_ds << 4;
    }
    if (opsize == 2) {
        st16le(image, c->x87_control);
        st16le(image + 2, x87_status_word(c));
        st16le(image + 4, x87_tag_word(c));
        st16le(image + 6, (uint16_t)ip);
        st16le(image + 8, real ? (uint16_t)((ip >> 16 & 15) << 12 | c->x87_opcode) : c->x87_cs);
        st16le(image + 10, (uint16_t)dp);
        st16le(image + 12, real ? (uint16_t)((dp >> 16 & 15) << 12) : c->x87_ds);
        return 14;
    }
    st32le(image, 0xFFFF0000u | c->x87_control);
    st32le(image + 4, 0xFFFF0000u | x87_status_word(c));
    st32le(image + 8, 0xFFFF0000u | x87_tag_word(c));
    if (real) {
        st32le(image + 12, 0xFFFF0000u | (ip & 0xFFFF));
        st32le(image + 16, (ip >> 16) << 12 | c->x87_opcode);
        st32le(image + 20, 0xFFFF0000u | (dp & 0xFFFF));
        st32le(image + 24, (dp >> 16) << 12);
    } else {
        st32le(image + 12, ip);
        st32le(image + 16, (uint32_t)c->x87_opcode << 16 | c->x87_cs);
        st32le(image + 20, dp);
        st32le(image + 24, 0xFFFF0000u | c->x87_ds);
    }
    return 28;
}
static void x87_unpack_env(struct cpu *c, unsigned opsize, const uint8_t *image)
{
    bool real = c->mode == MODE_REAL || c->mode == MODE_V86;
    unsigned step = opsize == 2 ? 2 : 4;
    x87_load_control(c, ld16le(image));
    x87_load_status(c, ld16le(image + step));
    x87_load_tags(c, ld16le(image + 2 * step));
    c->x87_cs = c->x87_ds = 0;
    if (opsize == 2) {
        c->x87_ip = ld16le(image + 6);
        c->x87_dp = ld16le(image + 10);
        if (real) {
            c->x87_ip |= (uint32_t)(ld16le(image + 8) >> 12) << 16;
            c->x87_opcode = ld16le(image + 8) & 0x7FF;
            c->x87_dp |= (uint32_t)(ld16le(image + 12) >> 12) << 16;
        } else {
            c->x87_cs = ld16le(image + 8);
            c->x87_ds = ld16le(image + 12);
        }
    } else if (real) {
        c->x87_ip = ld16le(image + 12) | (ld32le(image + 16) >> 12 & 0xFFFF) << 16;
        c->x87_opcode = ld16le(image + 16) & 0x7FF;
        c->x87_dp = ld16le(image + 20) | (ld32le(image + 24) >> 12 & 0xFFFF) << 16;
    } else {
        c->x87_ip = ld32le(image + 12);
        c->x87_cs = ld16le(image + 16);
        c->x87_opcode = ld16le(image + 18) & 0x7FF;
        c->x87_dp = ld32le(image + 20);
        c->x87_ds = ld16le(image + 24);
    }
}
/* The environment's instructions touch the first word, then the last byte: that tells which address a page fault reports. */
static int x87_touch(struct cpu *c, const struct insn *i, unsigned size, bool write)
{
    uint64_t first = insn_address(c, i), last = first + size - 1, value, wrap = i->addrsize == 8 ? UINT64_MAX : i->addrsize == 4 ? UINT32_MAX : UINT16_MAX;
    unsigned word = i->opsize == 2 ? 2 : 4;
    int r = write ? cpu_check_store(c, i->seg, first, word) : cpu_load(c, i->seg, first, word, &value);
    if (!r)
        r = write ? cpu_check_store(c, i->seg, last & wrap, 1) : cpu_load(c, i->seg, last & wrap, 1, &value);
    return r;
}
static int x87_fnstenv(struct cpu *c, const struct insn *i)
{
    uint8_t image[28];
    unsigned size = x87_pack_env(c, i->opsize, image);
    int r = x87_touch(c, i, size, true);
    if (!r)
        r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, size);
    if (!r)
        x87_load_control(c, c->x87_control | SF_ALL_FLAGS);
    return r;
}
static int x87_fldenv(struct cpu *c, const struct insn *i)
{
    uint8_t image[28];
    unsigned size = i->opsize == 2 ? 14 : 28;
    int r = x87_check_pending(c);
    if (!r)
        r = x87_touch(c, i, size, false);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, size);
    if (!r)
        x87_unpack_env(c, i->opsize, image);
    return r;
}
static int x87_fnsave(struct cpu *c, const struct insn *i)
{
    uint8_t image[108];
    unsigned k, size = x87_pack_env(c, i->opsize, image);
    int r;
    for (k = 0; k < 8; k++) {
        st64le(image + size + 10 * k, X87_ST(c, k)->mant);
        st16le(image + size + 10 * k + 8, X87_ST(c, k)->exp);
    }
    r = x87_touch(c, i, size + 80, true);
    if (!r)
        r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, size + 80);
    if (!r)
        x87_reset(c, false);
    return r;
}
static int x87_frstor(struct cpu *c, const struct insn *i)
{
    uint8_t image[108];
    unsigned k, size = i->opsize == 2 ? 14 : 28;
    int r = x87_check_pending(c);
    if (!r)
        r = x87_touch(c, i, size + 80, false);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, size + 80);
    if (r)
        return r;
    x87_unpack_env(c, i->opsize, image);
    for (k = 0; k < 8; k++) {
        X87_ST(c, k)->mant = ld64le(image + size + 10 * k);
        X87_ST(c, k)->exp = ld16le(image + size + 10 * k + 8);
    }
    return CPU_OK;
}

/* ---- FXSAVE image: SDM vol. 1 §10.5.1, tables 10-2 and 10-3 ---- */
EMU_PRIV void x87_pack_fxsave(struct cpu *c, uint8_t image[512], bool long_form)
{
    unsigned k;
    memset(image, 0, 416);
    st16le(image, c->x87_control);
    st16le(image + 2, x87_status_word(c));
    image[4] = (uint8_t)~c->x87_tags;
    st16le(image + 6, c->x87_opcode);
    if (long_form) {
        st64le(image + 8, c->x87_ip);
        st64le(image + 16, c->x87_dp);
    } else {
        st32le(image + 8, (uint32_t)c->x87_ip);
        st16le(image + 12, c->x87_cs);
        st32le(image + 16, (uint32_t)c->x87_dp);
        st16le(image + 20, c->x87_ds);
    }
    st32le(image + 24, c->mxcsr);
    st32le(image + 28, 0xFFFF);
    for (k = 0; k < 8; k++) {
        st64le(image + 32 + 16 * k, X87_ST(c, k)->mant);
        st16le(image + 40 + 16 * k, X87_ST(c, k)->exp);
    }
    for (k = 0; k < (c->code_size == 8 ? 16u : 8u); k++) {
        st64le(image + 160 + 16 * k, VQ(&c->xmm[k], 0));
        st64le(image + 168 + 16 * k, VQ(&c->xmm[k], 1));
    }
}
EMU_PRIV void x87_unpack_fxsave(struct cpu *c, const uint8_t image[512], bool long_form)
{
    unsigned k;
    x87_load_control(c, ld16le(image));
    x87_load_status(c, ld16le(image + 2));
    c->x87_tags = (uint8_t)~image[4];
    c->x87_opcode = ld16le(image + 6) & 0x7FF;
    if (long_form) {
        c->x87_ip = ld64le(image + 8);
        c->x87_dp = ld64le(image + 16);
        c->x87_cs = c->x87_ds = 0;
    } else {
        c->x87_ip = ld32le(image + 8);
        c->x87_cs = ld16le(image + 12);
        c->x87_dp = ld32le(image + 16);
        c->x87_ds = ld16le(image + 20);
    }
    c->mxcsr = ld32le(image + 24) & 0xFFFF;
    for (k = 0; k < 8; k++) {
        X87_ST(c, k)->mant = ld64le(image + 32 + 16 * k);
        X87_ST(c, k)->exp = ld16le(image + 40 + 16 * k);
    }
    for (k = 0; k < (c->code_size == 8 ? 16u : 8u); k++) {
        VQ(&c->xmm[k], 0) = ld64le(image + 160 + 16 * k);
        VQ(&c->xmm[k], 1) = ld64le(image + 168 + 16 * k);
    }
}

/* ---- the table ---- */
#define X87_MEM(op, n, name, opnd, fn) ROW_CALL(ENC(op) | SLASH(n) | MOD_MEM, name, opnd, 0, 0, CPU_FPU, ROW_X87, 0, 0, fn)
#define X87_MEMW(op, n, name, opnd, fn) ROW_CALL(ENC(op) | SLASH(n) | MOD_MEM, name, opnd, 0, 0, CPU_FPU, ROW_X87 | ROW_WRITES_MEM, 0, 0, fn)
#define X87_REG(op, n, name, o1, o2, fn) ROW_CALL(ENC(op) | SLASH(n) | MOD_REG, name, o1, o2, 0, CPU_FPU, ROW_X87, 0, 0, fn)
#define X87_ONE(op, n, rm, name, fn) ROW_CALL(ENC(op) | SLASH(n) | RM(rm), name, 0, 0, 0, CPU_FPU, ROW_X87, 0, 0, fn)
#define X87_FLAGS(op, n, name, fr, fw, fn)                                                                             \
    ROW_CALL(ENC(op) | SLASH(n) | MOD_REG, name, OPND_ST0, OPND_STi, 0, fr ? CPU_CMOV : CPU_FPU, ROW_X87, fr, fw, fn)
#define X87_ARITH_MEM(op, p, opnd)                                                                                     \
    X87_MEM(op, 0, p "add", opnd, x87_arith_mem), X87_MEM(op, 1, p "mul", opnd, x87_arith_mem), X87_MEM(op, 2, p "com", opnd, x87_arith_mem), \
    X87_MEM(op, 3, p "comp", opnd, x87_arith_mem), X87_MEM(op, 4, p "sub", opnd, x87_arith_mem), X87_MEM(op, 5, p "subr", opnd, x87_arith_mem), \
    X87_MEM(op, 6, p "div", opnd, x87_arith_mem), X87_MEM(op, 7, p "divr", opnd, x87_arith_mem)

static const struct insn_row x87_rows[] = {
    X87_ARITH_MEM(0xD8, "f", OPND_Md),
    X87_ARITH_MEM(0xDA, "fi", OPND_Md),
    X87_ARITH_MEM(0xDC, "f", OPND_Mq),
    X87_ARITH_MEM(0xDE, "fi", OPND_Mw),
    X87_REG(0xD8, 0, "fadd", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 1, "fmul", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 2, "fcom", OPND_STi, 0, x87_fcom),
    X87_REG(0xD8, 3, "fcomp", OPND_STi, 0, x87_fcomp),
    X87_REG(0xD8, 4, "fsub", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 5, "fsubr", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 6, "fdiv", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 7, "fdivr", OPND_ST0, OPND_STi, x87_arith_reg),

    X87_MEM(0xD9, 0, "fld", OPND_Md, x87_fld_mem),
    X87_MEMW(0xD9, 2, "fst", OPND_Md, x87_fst_m32),
    X87_MEMW(0xD9, 3, "fstp", OPND_Md, x87_fst_m32),
    X87_MEM(0xD9, 4, "fldenv", OPND_M, x87_fldenv),
    X87_MEM(0xD9, 5, "fldcw", OPND_Mw, x87_fldcw),
    X87_MEMW(0xD9, 6, "fnstenv", OPND_M, x87_fnstenv),
    X87_MEMW(0xD9, 7, "fnstcw", OPND_Mw, x87_fnstcw),
    X87_REG(0xD9, 0, "fld", OPND_STi, 0, x87_fld_reg),
    X87_REG(0xD9, 1, "fxch", OPND_STi, 0, x87_fxch),
    X87_ONE(0xD9, 2, 0, "fnop", x87_fnop),
    X87_REG(0xD9, 3, "fstp", OPND_STi, 0, x87_fst_reg), /* alias of DD /3 */
    X87_ONE(0xD9, 4, 0, "fchs", x87_fchs_fabs),
    X87_ONE(0xD9, 4, 1, "fabs", x87_fchs_fabs),
    X87_ONE(0xD9, 4, 4, "ftst", x87_ftst),
    X87_ONE(0xD9, 4, 5, "fxam", x87_fxam),
    X87_ONE(0xD9, 5, 0, "fld1", x87_fld_const),
    X87_ONE(0xD9, 5, 1, "fldl2t", x87_fld_const),
    X87_ONE(0xD9, 5, 2, "fldl2e", x87_fld_const),
    X87_ONE(0xD9, 5, 3, "fldpi", x87_fld_const),
    X87_ONE(0xD9, 5, 4, "fldlg2", x87_fld_const),
    X87_ONE(0xD9, 5, 5, "fldln2", x87_fld_const),
    X87_ONE(0xD9, 5, 6, "fldz", x87_fld_const),
    X87_ONE(0xD9, 6, 0, "f2xm1", x87_f2xm1),
    X87_ONE(0xD9, 6, 1, "fyl2x", x87_fyl2x),
    X87_ONE(0xD9, 6, 2, "fptan", x87_fsincos_fptan),
    X87_ONE(0xD9, 6, 3, "fpatan", x87_fpatan),
    X87_ONE(0xD9, 6, 4, "fxtract", x87_fxtract),
    X87_ONE(0xD9, 6, 5, "fprem1", x87_fprem),
    X87_ONE(0xD9, 6, 6, "fdecstp", x87_fincstp),
    X87_ONE(0xD9, 6, 7, "fincstp", x87_fincstp),
    X87_ONE(0xD9, 7, 0, "fprem", x87_fprem),
    X87_ONE(0xD9, 7, 1, "fyl2xp1", x87_fyl2xp1),
    X87_ONE(0xD9, 7, 2, "fsqrt", x87_fsqrt),
    X87_ONE(0xD9, 7, 3, "fsincos", x87_fsincos_fptan),
    X87_ONE(0xD9, 7, 4, "frndint", x87_frndint),
    X87_ONE(0xD9, 7, 5, "fscale", x87_fscale),
    X87_ONE(0xD9, 7, 6, "fsin", x87_fsin_fcos),
    X87_ONE(0xD9, 7, 7, "fcos", x87_fsin_fcos),

    X87_FLAGS(0xDA, 0, "fcmovb", FLAG_CF, 0, x87_fcmov),
    X87_FLAGS(0xDA, 1, "fcmove", FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDA, 2, "fcmovbe", FLAG_CF | FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDA, 3, "fcmovu", FLAG_PF, 0, x87_fcmov),
    X87_ONE(0xDA, 5, 1, "fucompp", x87_fucompp),

    X87_MEM(0xDB, 0, "fild", OPND_Md, x87_fld_mem),
    X87_MEMW(0xDB, 1, "fisttp", OPND_Md, x87_fisttp_m32),
    X87_MEMW(0xDB, 2, "fist", OPND_Md, x87_fist_m32),
    X87_MEMW(0xDB, 3, "fistp", OPND_Md, x87_fist_m32),
    X87_MEM(0xDB, 5, "fld", OPND_Mt, x87_fld_m80),
    X87_MEMW(0xDB, 7, "fstp", OPND_Mt, x87_fstp_m80),
    X87_FLAGS(0xDB, 0, "fcmovnb", FLAG_CF, 0, x87_fcmov),
    X87_FLAGS(0xDB, 1, "fcmovne", FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDB, 2, "fcmovnbe", FLAG_CF | FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDB, 3, "fcmovnu", FLAG_PF, 0, x87_fcmov),
    X87_ONE(0xDB, 4, 0, "fneni", x87_8087_nop),
    X87_ONE(0xDB, 4, 1, "fndisi", x87_8087_nop),
    X87_ONE(0xDB, 4, 2, "fnclex", x87_fnclex),
    X87_ONE(0xDB, 4, 3, "fninit", x87_fninit),
    X87_ONE(0xDB, 4, 4, "fnsetpm", x87_8087_nop),
    X87_FLAGS(0xDB, 5, "fucomi", 0, FLAGS_ARITH, x87_fucomi),
    X87_FLAGS(0xDB, 6, "fcomi", 0, FLAGS_ARITH, x87_fcomi),

    X87_REG(0xDC, 0, "fadd", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 1, "fmul", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 2, "fcom", OPND_STi, 0, x87_fcom),
    X87_REG(0xDC, 3, "fcomp", OPND_STi, 0, x87_fcomp),
    X87_REG(0xDC, 4, "fsubr", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 5, "fsub", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 6, "fdivr", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 7, "fdiv", OPND_STi, OPND_ST0, x87_arith_reg),

    X87_MEM(0xDD, 0, "fld", OPND_Mq, x87_fld_mem),
    X87_MEMW(0xDD, 1, "fisttp", OPND_Mq, x87_fisttp_m64),
    X87_MEMW(0xDD, 2, "fst", OPND_Mq, x87_fst_m64),
    X87_MEMW(0xDD, 3, "fstp", OPND_Mq, x87_fst_m64),
    X87_MEM(0xDD, 4, "frstor", OPND_M, x87_frstor),
    X87_MEMW(0xDD, 6, "fnsave", OPND_M, x87_fnsave),
    X87_MEMW(0xDD, 7, "fnstsw", OPND_Mw, x87_fnstsw),
    X87_REG(0xDD, 0, "ffree", OPND_STi, 0, x87_ffree),
    X87_REG(0xDD, 1, "fxch", OPND_STi, 0, x87_fxch),
    X87_REG(0xDD, 2, "fst", OPND_STi, 0, x87_fst_reg),
    X87_REG(0xDD, 3, "fstp", OPND_STi, 0, x87_fst_reg),
    X87_REG(0xDD, 4, "fucom", OPND_STi, 0, x87_fucom),
    X87_REG(0xDD, 5, "fucomp", OPND_STi, 0, x87_fucomp),

    X87_REG(0xDE, 0, "faddp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 1, "fmulp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 2, "fcomp", OPND_STi, 0, x87_fcomp),
    X87_ONE(0xDE, 3, 1, "fcompp", x87_fcompp),
    X87_REG(0xDE, 4, "fsubrp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 5, "fsubp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 6, "fdivrp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 7, "fdivp", OPND_STi, OPND_ST0, x87_arith_reg),

    X87_MEM(0xDF, 0, "fild", OPND_Mw, x87_fld_mem),
    X87_MEMW(0xDF, 1, "fisttp", OPND_Mw, x87_fisttp_m16),
    X87_MEMW(0xDF, 2, "fist", OPND_Mw, x87_fist_m16),
    X87_MEMW(0xDF, 3, "fistp", OPND_Mw, x87_fist_m16),
    X87_MEM(0xDF, 4, "fbld", OPND_Mt, x87_fbld),
    X87_MEM(0xDF, 5, "fild", OPND_Mq, x87_fld_mem),
    X87_MEMW(0xDF, 6, "fbstp", OPND_Mt, x87_fbstp),
    X87_MEMW(0xDF, 7, "fistp", OPND_Mq, x87_fistp_m64),
    X87_REG(0xDF, 0, "ffreep", OPND_STi, 0, x87_ffree),
    X87_REG(0xDF, 1, "fxch", OPND_STi, 0, x87_fxch),
    X87_REG(0xDF, 2, "fstp", OPND_STi, 0, x87_fst_reg),
    X87_REG(0xDF, 3, "fstp", OPND_STi, 0, x87_fst_reg),
    ROW_CALL(ENC(0xDF) | SLASH(4) | RM(0), "fnstsw", OPND_AX, 0, 0, CPU_FPU, ROW_X87, 0, 0, x87_fnstsw_ax),
    X87_FLAGS(0xDF, 5, "fucomip", 0, FLAGS_ARITH, x87_fucomip),
    X87_FLAGS(0xDF, 6, "fcomip", 0, FLAGS_ARITH, x87_fcomip),
    ROW_CALL(ENC(0x9B), "fwait", 0, 0, 0, CPU_ALWAYS, 0, 0, 0, x87_fwait),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
};
EMU_PRIV const struct insn_row *cpu_rows_x87(void) { return x87_rows; }
#undef X87_MEM
#undef X87_MEMW
#undef X87_REG
#undef X87_ONE
#undef X87_FLAGS
#undef X87_ARITH_MEM
#undef X87_ST
#undef X87_MODRM_REG
#undef X87_MODRM_RM
#undef X87_PARTIAL_STEP
