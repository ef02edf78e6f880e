/* tests/cpu_diff.c - differential tester: every instruction form that user mode can execute, here and on the host's own processor.
 *
 * Contract   Links the parts of emu. On x86-64 Linux each case runs natively in a forked child; everywhere, the cases of
 *            tests/vectors/cpu.txt are replayed and compared with what hardware gave. LONG=1 runs 1,000 cases a form.
 * Theory     The tables of the decoder are walked: row x operand size x register or memory form x LOCK, REP x 64-bit and 32-bit code. For a form, a
 *            seed gives encodings (registers, addressing, immediates) and states (registers, flags, x87, XMM, MXCSR, a block of memory); edge
 *            values are frequent. Code and data lie at the same linear addresses on both sides, filled with INT3: so a case ends with #BP, or
 *            with the fault that is to be compared. Natively the state travels through the signal frame: the handler takes the result of one case and
 *            returns into the next. In emu the CPU is in user mode behind real page tables, and a gate catches each vector.
 *            Every state runs twice in emu: through the plain functions of the rows, and through cpu_run(); a form's states
 *            share encodings, so that later ones run in optimised traces.
 *            Where the architecture leaves something open, emu does what Intel's processors do, and the vectors hold that. A host of another vendor
 *            (CPUID leaf 0) is not asked for such flags, and differences of the kinds in diff_vendor are left to the vectors, counted and named;
 *            sequences, in which they would spread, do without these forms there.
 * Invariants 1. The generator depends on nothing but the seed: vectors made on one host replay on every other.
 *            2. What is not compared is in one of the tables below, with its reason.
 *            3. Vectors are made on, and changed by, Intel hosts only; a form that was left to the vectors has one.
 */
#if defined(__SANITIZE_ADDRESS__) /* its shadow memory answers wild addresses that are to fault */
#define DIFF_SHADOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DIFF_SHADOW 1
#endif
#endif
#if defined(__x86_64__) && defined(__linux__) && !defined(__ILP32__) && !defined(DIFF_SHADOW)
#define DIFF_NATIVE 1
#define _DEFAULT_SOURCE 1 /* these come before the parts and their feature macros */
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#else
#define DIFF_NATIVE 0
#endif
#include "machine.h"
#include "cpu/cpu.h"
#include "test.h"

#define CODE_VA UINT64_C(0x10000000) /* one page of code, INT3 all over */
#define DATA_VA UINT64_C(0x20000000) /* two pages; then a hole; at +16 KiB a read-only page */
#define DATA_READ_ONLY (DATA_VA + 0x4000)
#define DATA_HOLE (DATA_VA + 0x2000)
#define BLOCK_OFFSET 0xC00u          /* the compared block straddles the two data pages */
#define BLOCK_SIZE 0x800u
#define BLOCK_VA (DATA_VA + BLOCK_OFFSET)
#define SUPERVISOR_VA UINT64_C(0xFFFF800000000000) /* where emu's tables and gates are */
#define FLAGS_COMPARED 0xCD5u        /* OSZAPC and DF */

/* ---- what is not run, what is not compared ---- */
static const struct {
    const char *names, *reason;
} diff_excluded[] = {
    { " in out ins outs cli sti hlt lldt ltr lgdt lidt lmsw invlpg clts invd wbinvd wrmsr rdmsr swapgs sysret sysexit invpcid xsetbv monitor mwait clac stac ",
      "privileged (tests/cpu_system.c)" },
    { " int3 ", "ends every case" },
    { " lcall ljmp lret int int1 into iret syscall sysenter ", "control transfer through descriptors or gates (tests/cpu_system.c)" },
    { " les lds lss lfs lgs sldt str sgdt sidt smsw ", "segment registers and tables are the operating system's (tests/cpu_system.c)" },
    { " rdtsc rdtscp rdpmc rdrand rdseed rdpid cpuid xgetbv ", "not deterministic or specific to the processor" },
    { " fxsave fxrstor ", "every case begins and ends with such an image of the host's, by the functions that these instructions call" },
    { " xsave xrstor xsaveopt xsavec rdpkru wrpkru rdfsbase rdgsbase wrfsbase wrgsbase ", "images, keys and bases differ with the operating system (tests/cpu_system.c)" },
};
static const char diff_selector_operand[] = " lar lsl verr verw ";
static const char diff_loads_segment[] = "loads a segment register: the C library's and the signal frame's (tests/cpu_system.c)";
/* Flags left out, by mnemonic, operand form and count (of a shift: immediate, CL or 1; as masked to 5 or 6 bits). */
enum mask_when { MASK_ALWAYS, MASK_REGISTER_COUNT_NOT_1, MASK_COUNT_NOT_0, MASK_COUNT_ABOVE_1 };
struct flag_mask {
    const char *names;
    uint32_t flags;
    enum mask_when when;
    const char *reason;
};
static const struct flag_mask diff_flag_masks[] = {
    { " rol ror ", FLAG_OF, MASK_REGISTER_COUNT_NOT_1, "undefined; the host keeps it for a register by an immediate count, computes it for memory and CL" },
};
#if DIFF_NATIVE
/* On hosts of other vendors also: what SDM vol. 2, "Flags Affected", calls undefined and vendors fill differently, where the instruction completed.
 * Undefined flags that all are seen to fill alike stay compared (AF of AND, OR, XOR, TEST; those of BT, TZCNT, AAM, AAD). */
static const struct flag_mask diff_vendor_flag_masks[] = {
    { " mul imul ", FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF, MASK_ALWAYS, "undefined: only CF and OF tell of the product" },
    { " div idiv ", FLAG_CF | FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF, MASK_ALWAYS, "undefined" },
    { " shl shr sar shld shrd ", FLAG_AF, MASK_COUNT_NOT_0, "undefined; without a count no flag changes" },
    { " shl shr sar shld shrd rol ror rcl rcr ", FLAG_OF, MASK_COUNT_ABOVE_1, "defined by shifts and rotations by 1 only" },
    { " bsf bsr ", FLAG_CF | FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF, MASK_ALWAYS, "undefined: only ZF tells of the source" },
    { " lzcnt ", FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF, MASK_ALWAYS, "undefined: only ZF and CF tell of the result" },
    { " daa das ", FLAG_OF, MASK_ALWAYS, "undefined" },
    { " aaa aas ", FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF, MASK_ALWAYS, "undefined" },
};
/* Differences from a host of another vendor that are left to the vectors. ORDER vendor_kind: vendor_form_differs(), vendor_explains(). */
enum vendor_kind {
    VENDOR_APPROXIMATION, VENDOR_NAN, VENDOR_ALIGNMENT, VENDOR_REX_B, VENDOR_SELECTOR, VENDOR_NEAR_16, VENDOR_WRAP, VENDOR_FAULT_ADDRESS, VENDOR_FAULT_FLAGS,
    VENDOR_FAULT_ORDER, VENDOR_TINY, VENDOR_REGISTER, VENDOR_COUNT
};
static const struct {
    const char *names;
    enum vendor_kind kind;
    const char *reason;
} diff_vendor[] = {
    { " rcpps rcpss rsqrtps rsqrtss ", VENDOR_APPROXIMATION, "only a bound of the relative error is architecture, 1.5 * 2^-12" },
    { " dpps dppd ", VENDOR_NAN, "which of several NaN comes out of the sums is implementation dependent (SDM vol. 2 DPPS, DPPD)" },
    { " sha1nexte sha1msg1 sha1msg2 sha1rnds4 sha256rnds2 sha256msg1 sha256msg2 ", VENDOR_ALIGNMENT, "Intel's want memory operands aligned, AMD's do not" },
    { " pause ", VENDOR_REX_B, "F3 41 90 is PAUSE to Intel's, XCHG of R8 to AMD's" },
    { " push ", VENDOR_SELECTOR, "a selector's push of 32 bits may write 16 of them or zeroes above (SDM vol. 2 PUSH)" },
    { " call jmp ret ", VENDOR_NEAR_16, "66h before near branches in 64-bit code: Intel's ignore it, for AMD's the target has 16 bits" },
    { " push pop pusha popa popf call ret enter cmpxchg8b ", VENDOR_WRAP, "an access past 4 GiB may find the limit FFFFFFFFh or wrap (SDM vol. 3 \"Limit Checking\")" },
    { " maskmovq maskmovdqu ", VENDOR_FAULT_ADDRESS, "which of the bytes, masked ones too, are looked at and named by the fault" },
    { " cmps scas ", VENDOR_FAULT_FLAGS, "a repetition that faults has stored the flags of earlier elements, or has not" },
    { " bound fst fstp fist fistp fisttp fbstp ", VENDOR_FAULT_ORDER, "exceptions of one instruction have no order among them (SDM vol. 3 \"Priority Among Concurrent Events\")" },
    { " fprem fprem1 ", VENDOR_TINY, "a denormal's remainder by infinity is the operand, with UE unmasked an underflow to AMD's" },
    { " prefetchw ", VENDOR_REGISTER, "the register form does nothing, or is #UD" },
    { " shld shrd ", VENDOR_COUNT, "count above 16 with 16-bit operands: result and flags are undefined" },
};
#endif

/* ---- random numbers and values ---- */
struct rng {
    uint64_t s;
};
static uint64_t rng_next(struct rng *r) /* splitmix64 */
{
    uint64_t z = r->s += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}
static unsigned rng_below(struct rng *r, unsigned n) { return (unsigned)((rng_next(r) >> 32) % n); }
static bool rng_one_in(struct rng *r, unsigned n) { return rng_below(r, n) == 0; }
/* An expression may hold one call of these only: C leaves the order of two open, and vectors must not depend on the compiler. */

static uint64_t value_int(struct rng *r)
{
    static const uint64_t edges[] = { 0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000u, 0xFFFFFFFFu,
                                      UINT64_C(0x100000000), UINT64_C(0x7FFFFFFFFFFFFFFF), UINT64_C(0x8000000000000000), UINT64_MAX, UINT64_MAX - 1 };
    uint64_t v;
    unsigned n;
    switch (rng_below(r, 6)) {
    case 0: return edges[rng_below(r, sizeof edges / sizeof *edges)];
    case 1:
        v = edges[rng_below(r, sizeof edges / sizeof *edges)];
        return v + rng_below(r, 5) - 2;
    case 2:
    case 3:
        n = rng_below(r, 64);
        v = rng_next(r) >> n;
        return n & 1 ? v : 0 - v;
    default: return rng_next(r);
    }
}
static uint32_t value_f32(struct rng *r)
{
    static const uint32_t edges[] = { 0, 1, 0x7FFFFF, 0x800000, 0x800001, 0x3F800000, 0x3F800001, 0x3F7FFFFF, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000,
                                      0x7FC12345, 0x7FBFFFFF, 0x4F000000, 0x4EFFFFFF, 0x5F000000, 0x5EFFFFFF, 0x3F000000, 0x3FC00000, 0x40200000, 0x00400000 };
    uint32_t sign = rng_one_in(r, 2) ? 0x80000000u : 0, frac = (uint32_t)(rng_next(r) & 0x7FFFFF);
    unsigned n;
    switch (rng_below(r, 8)) {
    case 0: case 1: return edges[rng_below(r, sizeof edges / sizeof *edges)] | sign;
    case 2: return frac | sign;
    case 3: return (uint32_t)rng_next(r);
    case 4:
        n = rng_below(r, 12); /* the ends of the range */
        return (n < 8 ? n >> 1 : 0xFDu + (n & 3) % 3) << 23 | frac | sign;
    case 5:
        frac &= ~(uint32_t)0 << rng_below(r, 23);
        return (120 + rng_below(r, 40)) << 23 | frac | sign;
    default: return (110 + rng_below(r, 35)) << 23 | frac | sign;
    }
}
static uint64_t value_f64(struct rng *r)
{
    static const uint64_t edges[] = { 0, 1, UINT64_C(0xFFFFFFFFFFFFF), UINT64_C(0x10000000000000), UINT64_C(0x10000000000001), UINT64_C(0x3FF0000000000000),
                                      UINT64_C(0x3FF0000000000001), UINT64_C(0x3FEFFFFFFFFFFFFF), UINT64_C(0x7FEFFFFFFFFFFFFF), UINT64_C(0x7FF0000000000000),
                                      UINT64_C(0x7FF0000000000001), UINT64_C(0x7FF8000000000000), UINT64_C(0x7FF8000000012345), UINT64_C(0x7FF7FFFFFFFFFFFF),
                                      UINT64_C(0x41E0000000000000), UINT64_C(0x41DFFFFFFFC00000), UINT64_C(0x43E0000000000000), UINT64_C(0x41DFFFFFFFE00000),
                                      UINT64_C(0x43DFFFFFFFFFFFFF), UINT64_C(0x3FE0000000000000), UINT64_C(0x3FF8000000000000), UINT64_C(0x36A0000000000000) };
    uint64_t sign = rng_one_in(r, 2) ? UINT64_C(0x8000000000000000) : 0, frac = rng_next(r) >> 12;
    unsigned n;
    switch (rng_below(r, 8)) {
    case 0: case 1: return edges[rng_below(r, sizeof edges / sizeof *edges)] | sign;
    case 2: return frac | sign;
    case 3: return rng_next(r);
    case 4:
        n = rng_below(r, 90); /* about binary32's ends, and the ends of the range */
        return (uint64_t)(n < 40 ? 0x380 - 30 + n : n < 80 ? 0x47E + 40 - n : n < 85 ? n - 80 : 0x7FE - (n - 85)) << 52 | frac | sign;
    case 5:
        frac &= ~(uint64_t)0 << rng_below(r, 52);
        return (uint64_t)(1010 + rng_below(r, 80)) << 52 | frac | sign;
    default: return (uint64_t)(1000 + rng_below(r, 60)) << 52 | frac | sign;
    }
}
static void value_f80(struct rng *r, uint8_t out[10])
{
    uint64_t mant = rng_next(r) | UINT64_C(0x8000000000000000);
    unsigned exp = 0x3FFF, sign = rng_below(r, 2) << 15;
    switch (rng_below(r, 12)) {
    case 0: mant = 0, exp = 0; break;
    case 1: mant = UINT64_C(1) << 63, exp = 0x7FFF; break;
    case 2: exp = 0x7FFF; break; /* a NaN, quiet or signalling */
    case 3: mant &= UINT64_MAX >> 1, exp = 0; break;
    case 4: exp = rng_below(r, 2) ? rng_below(r, 70) : 0x7FFE - rng_below(r, 70); break;
    case 5: /* not supported: unnormal, pseudo-NaN, pseudo-infinity; or a pseudo-denormal */
        if (rng_below(r, 3) == 0)
            exp = 0;
        else
            mant = rng_below(r, 3) ? mant & UINT64_MAX >> 1 : 0, exp = rng_below(r, 2) ? 0x7FFF : rng_below(r, 0x7FFF) + 1;
        break;
    case 6: mant &= ~(uint64_t)0 << rng_below(r, 64), mant |= UINT64_C(1) << 63, exp = 0x3FFF - 20 + rng_below(r, 90); break;
    case 7: /* about the ends of binary32 and binary64 */
        exp = rng_below(r, 2) ? 0x3F80 - 60 : 0x3C00 - 60;
        exp += rng_below(r, 2) ? 0x80 : 0;
        exp += rng_below(r, 120);
        break;
    case 8: mant = UINT64_C(1) << 63, exp = 0x3FFF - 3 + rng_below(r, 7); break;
    case 9: mant = rng_next(r), exp = rng_below(r, 0x8000); break;
    default: exp = 0x3FFF - 8 + rng_below(r, 24); break;
    }
    st64le(out, mant);
    st16le(out + 8, (uint16_t)(exp | sign));
}

/* ---- states and cases ---- */
struct diff_state {
    uint64_t gpr[16], rip, cr2;
    uint32_t flags, error;
    int32_t vector;
    uint8_t fx[416]; /* FXSAVE image up to the last XMM register */
    uint8_t mem[BLOCK_SIZE];
};
struct diff_case {
    uint8_t code[208];
    uint32_t length, at; /* at: offset in the code page */
    bool wide;           /* 64-bit code, else 32-bit */
    struct diff_state in, out;
};

enum fill { FILL_INT, FILL_F32, FILL_F64, FILL_F80 };
struct form {
    const struct insn_row *row;
    uint8_t opsize, rep;
    bool mem, lock, wide;
    uint8_t fill;
    char name[72];
};

static bool name_in(const char *list, const char *name)
{
    char word[40];
    snprintf(word, sizeof word, " %s ", name);
    return strstr(list, word) != NULL;
}
static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && !strcmp(s + n - m, tail);
}
static unsigned form_fill(const struct insn_row *row)
{
    const char *n = row->name;
    if (row->attr & ROW_X87) {
        if (n[0] == 'f' && n[1] == 'i' && strcmp(n, "fincstp"))
            return FILL_INT;
        return row->opnd[0] == OPND_Md ? FILL_F32 : row->opnd[0] == OPND_Mq ? FILL_F64 : row->opnd[0] == OPND_Mt ? FILL_F80 : FILL_INT;
    }
    if (!strncmp(n, "cvt", 3)) {
        n += n[3] == 't' ? 4 : 3;
        return !strncmp(n, "ps", 2) || !strncmp(n, "ss", 2) ? FILL_F32 : !strncmp(n, "pd", 2) || !strncmp(n, "sd", 2) ? FILL_F64 : FILL_INT;
    }
    if (ends_with(n, "ps") || ends_with(n, "ss"))
        return FILL_F32;
    if (ends_with(n, "pd") || ends_with(n, "sd"))
        return FILL_F64;
    return FILL_INT;
}

/* ---- encoding ---- */
static bool operand_uses_modrm(unsigned k)
{
    switch (k) {
    case OPND_NONE: case OPND_Ib: case OPND_Ibs: case OPND_Iw: case OPND_Iz: case OPND_Iv: case OPND_Jb: case OPND_Jz: case OPND_Ap: case OPND_Ob:
    case OPND_Ov: case OPND_Zb: case OPND_Zv: case OPND_Zq: case OPND_AL: case OPND_AX: case OPND_eAX: case OPND_CL: case OPND_DX: case OPND_1:
    case OPND_ES: case OPND_CS: case OPND_SS: case OPND_DS: case OPND_FS: case OPND_GS: case OPND_Xb: case OPND_Xv: case OPND_Yb: case OPND_Yv:
    case OPND_ST0: case OPND_XMM0: return false;
    default: return true;
    }
}
static bool operand_is_mem_only(unsigned k) { return k >= OPND_M && k <= OPND_Mt; }
static bool operand_is_rm(unsigned k)
{
    return (k >= OPND_Eb && k <= OPND_Eq) || (k >= OPND_Wx && k <= OPND_Wb) || k == OPND_Qq || k == OPND_Qd;
}
static bool operand_scales(unsigned k) /* with the operand size */
{
    switch (k) {
    case OPND_Ev: case OPND_Gv: case OPND_Rv: case OPND_Mv: case OPND_Iz: case OPND_Iv: case OPND_Zv: case OPND_eAX: case OPND_Xv: case OPND_Yv: case OPND_Ov:
        return true;
    default: return false;
    }
}
static bool row_has_modrm(const struct insn_row *row)
{
    unsigned k;
    if (row->enc & (SLASH_MASK | MOD_MASK | RM_MASK | HAS_MODRM))
        return true;
    for (k = 0; k < 4; k++)
        if (operand_uses_modrm(row->opnd[k]))
            return true;
    return false;
}

struct encoded {
    uint8_t bytes[32];
    unsigned length;
    int base, index, scale; /* -1: none */
    int64_t disp;
    bool memory, rip_relative, addr_small, gs, moffs;
    unsigned reg, rm;
};

static void emit(struct encoded *e, uint64_t v, unsigned size)
{
    while (size--) {
        e->bytes[e->length++] = (uint8_t)v;
        v >>= 8;
    }
}

/* One encoding of a form at CODE_VA + at; the immediate bytes are random. */
static void encode(struct rng *r, const struct form *f, uint32_t at, bool in_sequence, struct encoded *e)
{
    /* in sequences: these are written, and others hold pointers or counts */
    static const uint8_t free_regs[] = { GPR_RAX, GPR_RCX, GPR_RDX, GPR_RSI, GPR_RDI, GPR_R8, GPR_R9, GPR_R10, GPR_R11, GPR_R15 };
    static const uint8_t bases[] = { GPR_RBX, GPR_RBP, GPR_R12 };
    const struct insn_row *row = f->row;
    unsigned regs = f->wide ? 16 : 8, modrm = 0, rex = 0, k, mod = 3, rm_low;
    bool has_modrm = row_has_modrm(row), need_rex = false, sib = false;
    bool fixed_size = row->enc & W_MASK;
    int rip_at = -1;
    memset(e, 0, sizeof *e);
    e->base = e->index = -1;
    e->reg = (row->enc & SLASH_MASK) ? ((row->enc & SLASH_MASK) >> 13) - 1 : rng_below(r, regs);
    e->rm = rng_below(r, regs);
    if (in_sequence) {
        if (!(row->enc & SLASH_MASK))
            e->reg = free_regs[rng_below(r, f->wide ? 10 : 5)];
        e->rm = free_regs[rng_below(r, f->wide ? 10 : 5)];
    }
    e->memory = f->mem;
    for (k = 0; k < 4; k++) {
        e->moffs |= row->opnd[k] == OPND_Ob || row->opnd[k] == OPND_Ov;
        if (row->opnd[k] == OPND_Sw)
            e->reg = rng_below(r, 6);
    }
    if ((row->enc & RM_MASK) != 0)
        e->rm = ((row->enc & RM_MASK) >> 19) - 1;
    if ((row->attr & (ROW_X87 | ROW_MMX)) && (row->attr & ROW_X87))
        e->rm &= 7;
    /* legacy prefixes */
    if (f->lock)
        emit(e, 0xF0, 1);
    if (in_sequence) {
        ;
    } else if (f->mem && rng_one_in(r, 12)) {
        e->gs = true;
        emit(e, 0x65, 1);
    } else if (rng_one_in(r, 24) && f->wide) {
        emit(e, rng_one_in(r, 2) ? 0x26 : 0x3E, 1); /* ignored in 64-bit code */
    }
    if ((f->mem || e->moffs) && !in_sequence && rng_one_in(r, 10) && (f->wide || !e->moffs)) {
        e->addr_small = f->wide;
        if (f->wide)
            emit(e, 0x67, 1);
    }
    switch (row->enc & PFX_MASK) {
    case PFX_66: emit(e, 0x66, 1); break;
    case PFX_F3: emit(e, 0xF3, 1); break;
    case PFX_F2: emit(e, 0xF2, 1); break;
    default: break;
    }
    if (f->opsize == 2 && (row->enc & PFX_MASK) != PFX_66)
        emit(e, 0x66, 1);
    if (f->rep)
        emit(e, f->rep, 1);
    /* memory operand */
    if (f->mem && has_modrm) {
        unsigned form = rng_below(r, 8);
        if (in_sequence) {
            e->base = bases[rng_below(r, f->wide ? 3 : 2)];
            sib = (e->base & 7) == 4;
            if (f->wide && rng_one_in(r, 4)) {
                sib = true;
                e->index = GPR_R13;
                e->scale = (int)rng_below(r, 4);
            }
            mod = 1 + rng_below(r, 2);
            e->disp = (int)rng_below(r, 14) * 8 - 64;
            if (rng_one_in(r, 8))
                e->disp += (int)rng_below(r, 8);
        } else if (form == 0 && f->wide) {
            e->rip_relative = true;
            mod = 0;
        } else {
            e->base = (int)rng_below(r, regs);
            if (rng_one_in(r, 2)) {
                sib = true;
                e->index = (int)rng_below(r, regs);
                if (e->index == 4 || e->index == e->base)
                    e->index = -1;
                e->scale = (int)rng_below(r, 4);
            }
            if ((e->base & 7) == 4)
                sib = true;
            mod = rng_below(r, 3);
            if (mod == 0 && (e->base & 7) == 5)
                mod = 1;
            e->disp = mod == 1 ? (int8_t)rng_next(r) : mod == 2 ? (int32_t)(rng_next(r) & 0xFFFFFF) - 0x800000 : 0;
        }
    }
    /* REX */
    if (f->wide) {
        if (f->opsize == 8 || (row->enc & W_MASK) == W1)
            rex |= 8;
        if (has_modrm && !(row->enc & SLASH_MASK) && (e->reg & 8))
            rex |= 4;
        if (e->memory) {
            if (e->base >= 8)
                rex |= 1;
            if (e->index >= 8)
                rex |= 2;
        } else if (e->rm & 8) {
            rex |= 1;
        }
        need_rex = rng_one_in(r, 3);
        if (rex || need_rex)
            emit(e, 0x40 | rex, 1);
    }
    (void)fixed_size;
    switch (ENC_MAP(row->enc)) {
    case 1: emit(e, 0x0F, 1); break;
    case 2: emit(e, 0x380F, 2); break;
    case 3: emit(e, 0x3A0F, 2); break;
    default: break;
    }
    emit(e, (row->enc & 0xFF) + (row->enc & OPREG ? e->rm & 7 : 0), 1);
    if (has_modrm) {
        if (e->memory) {
            rm_low = e->rip_relative ? 5 : sib ? 4 : (unsigned)e->base & 7;
            modrm = mod << 6 | (e->reg & 7) << 3 | rm_low;
            emit(e, modrm, 1);
            if (sib)
                emit(e, (unsigned)e->scale << 6 | (e->index < 0 ? 4u : (unsigned)e->index & 7) << 3 | ((unsigned)e->base & 7), 1);
            if (e->rip_relative) {
                rip_at = (int)e->length;
                emit(e, 0, 4);
            } else if (mod) {
                emit(e, (uint64_t)e->disp, mod == 1 ? 1 : 4);
            }
        } else {
            emit(e, 0xC0 | (e->reg & 7) << 3 | (e->rm & 7), 1);
        }
    }
    /* immediates and displacements; branches stay in the page and off the instruction's own bytes */
    for (k = 0; k < 4; k++) {
        unsigned kind = row->opnd[k], size = 0;
        switch (kind) {
        case OPND_Ib: case OPND_Ibs: emit(e, value_int(r), 1); break;
        case OPND_Iw: emit(e, value_int(r), 2); break;
        case OPND_Iz: emit(e, value_int(r), f->opsize == 2 ? 2 : 4); break;
        case OPND_Iv: emit(e, value_int(r), f->opsize); break;
        case OPND_Jb: emit(e, rng_one_in(r, 2) ? 0x20 + rng_below(r, 0x60) : 0x80 + rng_below(r, 0x60), 1); break;
        case OPND_Jz:
            size = f->opsize == 2 && !f->wide ? 2 : 4;
            emit(e, rng_one_in(r, 2) ? 0x20 + rng_below(r, 0x400) : (uint64_t)0 - 0x40 - rng_below(r, 0x400), size);
            break;
        case OPND_Ob: case OPND_Ov:
            e->disp = (int64_t)(BLOCK_VA + 0x100 + rng_below(r, 0x400));
            emit(e, (uint64_t)e->disp, f->wide && !e->addr_small ? 8 : 4);
            break;
        default: break;
        }
    }
    if (rip_at >= 0) {
        int32_t disp = (int32_t)(BLOCK_VA + 0x200 - (CODE_VA + at + e->length));
        disp += (int32_t)(16 * rng_below(r, 0x20));
        disp += rng_one_in(r, 3) ? (int32_t)rng_below(r, 16) : 0;
        st32le(e->bytes + rip_at, (uint32_t)disp);
        e->disp = disp;
    }
}

/* ---- states ---- */
static void fill_bytes(struct rng *r, uint8_t *p, unsigned size, unsigned fill)
{
    unsigned k;
    uint8_t image[10];
    switch (fill) {
    case FILL_F32:
        for (k = 0; k + 4 <= size; k += 4)
            st32le(p + k, value_f32(r));
        break;
    case FILL_F64:
        for (k = 0; k + 8 <= size; k += 8)
            st64le(p + k, value_f64(r));
        break;
    case FILL_F80:
        value_f80(r, image);
        memcpy(p, image, size < 10 ? size : 10);
        break;
    default:
        for (k = 0; k + 8 <= size; k += 8)
            st64le(p + k, value_int(r));
        break;
    }
}

static void make_fpu_state(struct rng *r, const struct form *f, struct diff_state *s)
{
    uint8_t *fx = s->fx;
    unsigned k, cw = 0x37F, sw, tags, valid;
    uint32_t mxcsr = 0x1F80;
    bool x87 = f->row->attr & (ROW_X87 | ROW_MMX);
    memset(fx, 0, sizeof s->fx);
    if (x87) {
        if (rng_one_in(r, 2)) {
            cw = 0x7F | rng_below(r, 4) << 10;
            cw |= (rng_one_in(r, 3) ? rng_below(r, 4) : 3) << 8;
        }
        if (rng_one_in(r, 6))
            cw &= ~(rng_below(r, 64)); /* some exceptions unmasked */
        cw |= 0x40;
        sw = rng_below(r, 128) << 8 & 0x7F00;
        if (rng_one_in(r, 3)) {
            unsigned flags = rng_below(r, 128);
            sw |= flags & (rng_one_in(r, 16) ? 0x7F : (cw & 0x3F) | 0x40);
        }
        if (sw & ~cw & 0x3F)
            sw |= 0x8080;
        valid = rng_below(r, 8) ? 2 + rng_below(r, 5) : rng_below(r, 9);
        for (tags = k = 0; k < valid; k++)
            tags |= 1u << (((sw >> 11 & 7) + k) & 7);
        if (rng_one_in(r, 16))
            tags = rng_below(r, 256);
        st16le(fx, (uint16_t)cw);
        st16le(fx + 2, (uint16_t)sw);
        fx[4] = (uint8_t)tags;
        for (k = 0; k < 8; k++)
            value_f80(r, fx + 32 + 16 * k);
        if (rng_one_in(r, 8)) /* operands that are near each other */
            memcpy(fx + 48, fx + 32, 10);
        if (rng_one_in(r, 8))
            memcpy(fx + 48 + 2, fx + 32 + 2, 8);
    } else {
        st16le(fx, 0x37F);
        fx[4] = 0;
    }
    switch (rng_below(r, 8)) {
    case 0: case 1: case 2: break;
    case 3: case 4: mxcsr = 0x1FA0; break;
    case 5: mxcsr = 0x1F80 | (rng_below(r, 0x10000) & 0x603F); break;
    case 6: mxcsr = 0x1F80 | (rng_below(r, 0x10000) & 0xE07F); break;
    default: mxcsr = rng_below(r, 0x10000); break;
    }
    if (!(f->row->attr & ROW_SSE))
        mxcsr = 0x1F80;
    st32le(fx + 24, mxcsr);
    for (k = 0; k < (f->wide ? 16u : 8u); k++) {
        unsigned fill = f->row->attr & ROW_SSE ? f->fill : FILL_INT;
        if (rng_one_in(r, 8))
            fill = rng_below(r, 3);
        fill_bytes(r, fx + 160 + 16 * k, 16, fill);
        if (k && rng_one_in(r, 4))
            memcpy(fx + 160 + 16 * k + 8 * rng_below(r, 2), fx + 160 + 16 * (k - 1), 8);
        if (rng_one_in(r, 16)) { /* few distinct bytes: string comparisons find something */
            unsigned j;
            for (j = 0; j < 16; j++)
                fx[160 + 16 * k + j] = (uint8_t)rng_below(r, 3);
        }
    }
}

/* A selector for LAR, LSL, VERR, VERW; never that of Linux's descriptor 15, which tells the processor's number. */
static uint16_t value_selector(struct rng *r)
{
    static const uint8_t known[] = { 0, 3, 8, 0xB, 0x10, 0x13, 0x18, 0x1B, 0x20, 0x23, 0x28, 0x2A, 0x2B, 0x30, 0x33, 0x37, 0x40, 0x43, 0x50, 0x60, 0x7C, 0x80 };
    uint16_t v = (uint16_t)(rng_one_in(r, 4) ? rng_next(r) : known[rng_below(r, sizeof known)]);
    return (v & 0xFFFC) == 0x78 ? 0x2B : v;
}

/* A state for the encoding; pointers lead into the block (or, seldom, to pages that fault). */
static void make_state(struct rng *r, const struct form *f, const struct encoded *e, uint32_t at, struct diff_state *s)
{
    const struct insn_row *row = f->row;
    uint64_t target = 0, mask = f->wide ? UINT64_MAX : UINT32_MAX;
    unsigned k;
    const char *n = row->name;
    memset(s, 0, sizeof *s);
    for (k = 0; k < 16; k++)
        s->gpr[k] = value_int(r);
    s->flags = 0x202u | (rng_below(r, 0x1000) & 0x8D5u);
    if (row->attr & ROW_REP || rng_one_in(r, 16))
        s->flags |= rng_below(r, 2) << 10;
    fill_bytes(r, s->mem, BLOCK_SIZE, FILL_INT);
    make_fpu_state(r, f, s);
    s->gpr[GPR_RSP] = BLOCK_VA + 0x380 + 8 * rng_below(r, 16);
    if (rng_one_in(r, 32))
        s->gpr[GPR_RSP] += rng_below(r, 8);
    if (rng_one_in(r, 64))
        s->gpr[GPR_RSP] = rng_one_in(r, 2) ? DATA_HOLE + 8 * rng_below(r, 2) : UINT64_C(0x7FFFFFFFFFFFFFF8) + rng_below(r, 16);
    if (row->attr & ROW_REP || !strcmp(n, "xlat") || !strncmp(n, "maskmov", 7)) {
        s->gpr[GPR_RSI] = BLOCK_VA + 0x180 + rng_below(r, 0x380);
        s->gpr[GPR_RDI] = rng_one_in(r, 3) ? s->gpr[GPR_RSI] + rng_below(r, 32) - 16 : BLOCK_VA + 0x180 + rng_below(r, 0x380);
        s->gpr[GPR_RBX] = BLOCK_VA + rng_below(r, 0x600);
        s->gpr[GPR_RCX] = rng_below(r, 24);
        if (rng_one_in(r, 24))
            s->gpr[GPR_RDI] = DATA_HOLE - rng_below(r, 32);
        if (e->addr_small) { /* upper halves do not count, and are cleared only if written */
            s->gpr[GPR_RSI] |= rng_next(r) << 32;
            s->gpr[GPR_RDI] |= rng_next(r) << 32;
            s->gpr[GPR_RCX] |= rng_next(r) << 32;
        }
        if (!strcmp(n, "cmps") || !strcmp(n, "scas"))
            for (k = 0; k < BLOCK_SIZE; k++)
                s->mem[k] = (uint8_t)rng_below(r, 2);
        if (!strcmp(n, "scas"))
            s->gpr[GPR_RAX] &= UINT64_C(0x0101010101010101);
    }
    if (!strcmp(n, "enter") || !strcmp(n, "leave"))
        s->gpr[GPR_RBP] = BLOCK_VA + 0x500 + 8 * rng_below(r, 16);
    if (!strncmp(n, "loop", 4) || !strcmp(n, "jcxz"))
        s->gpr[GPR_RCX] = rng_one_in(r, 2) ? rng_below(r, 3) : s->gpr[GPR_RCX];
    if (!strncmp(n, "pcmpestr", 8)) {
        s->gpr[GPR_RAX] = rng_one_in(r, 4) ? s->gpr[GPR_RAX] : (uint64_t)0 + rng_below(r, 40) - 20;
        s->gpr[GPR_RDX] = rng_one_in(r, 4) ? s->gpr[GPR_RDX] : (uint64_t)0 + rng_below(r, 40) - 20;
    }
    if (!strcmp(n, "popf")) { /* TF, IF, NT, AC, ID belong to the tests of the system */
        uint64_t at_sp = s->gpr[GPR_RSP] - BLOCK_VA;
        if (at_sp + 8 <= BLOCK_SIZE)
            st64le(s->mem + at_sp, (ld64le(s->mem + at_sp) & 0xCD5) | 0x202);
    }
    if ((!strcmp(n, "div") || !strcmp(n, "idiv")) && rng_one_in(r, 2))
        s->gpr[GPR_RDX] = rng_one_in(r, 2) ? 0 : s->gpr[GPR_RDX] >> (32 + rng_below(r, 32));
    /* the memory operand */
    if (e->memory && (e->base >= 0 || e->moffs || e->rip_relative)) {
        uint64_t index = 0;
        target = BLOCK_VA + 0x100 + 16 * rng_below(r, 0x58);
        if (rng_one_in(r, 3))
            target += rng_below(r, 16);
        if (rng_one_in(r, 48))
            target = rng_one_in(r, 2) ? DATA_HOLE - rng_below(r, 16) : DATA_READ_ONLY + 16 * rng_below(r, 16);
        if (e->rip_relative) {
            target = CODE_VA + at + e->length + (uint64_t)e->disp;
        } else if (e->moffs) {
            target = (uint64_t)e->disp;
        } else {
            if (e->index >= 0) {
                s->gpr[e->index] = rng_one_in(r, 2) ? rng_below(r, 64) : value_int(r);
                index = s->gpr[e->index] << e->scale;
            }
            s->gpr[e->base] = target - (uint64_t)e->disp - index - (e->gs ? DATA_VA : 0);
            if (e->addr_small)
                s->gpr[e->base] = (uint32_t)s->gpr[e->base] | (rng_next(r) & ~(uint64_t)UINT32_MAX);
            if (f->wide && rng_one_in(r, 128))
                s->gpr[e->base] ^= UINT64_C(1) << 60; /* not canonical */
        }
        if (e->gs && (e->moffs || e->rip_relative))
            target += DATA_VA;
        if (target - BLOCK_VA <= BLOCK_SIZE - 16) {
            uint8_t *p = s->mem + (target - BLOCK_VA);
            fill_bytes(r, p, 16, f->fill);
            if (name_in(diff_selector_operand, n)) {
                st16le(p, value_selector(r));
            } else if (!strcmp(n, "fbld")) {
                for (k = 0; k < 9; k++) {
                    unsigned two = rng_below(r, 100);
                    p[k] = (uint8_t)(two / 10 << 4 | two % 10);
                }
                p[9] = rng_one_in(r, 2) ? 0x80 : 0;
            } else if (!strcmp(n, "ldmxcsr")) {
                bool reserved = rng_one_in(r, 8);
                st32le(p, rng_below(r, reserved ? 0x7FFFFFFF : 0x10000));
            } else if (!strcmp(n, "fldenv") || !strcmp(n, "frstor")) {
                unsigned step = f->opsize == 2 ? 2 : 4; /* mostly masked; code selector, pointers: any */
                unsigned masks = rng_one_in(r, 4) ? 0 : 0x3F;
                st16le(p, (uint16_t)(rng_below(r, 0x10000) | masks));
                st16le(p + step, (uint16_t)rng_next(r));
                st16le(p + 2 * step, (uint16_t)rng_next(r));
            } else if (!strncmp(n, "cmpxchg", 7) && rng_one_in(r, 2)) {
                if (n[7]) {
                    bool big = !strcmp(n, "cmpxchg16b");
                    if (big) {
                        s->gpr[GPR_RAX] = ld64le(p);
                        s->gpr[GPR_RDX] = ld64le(p + 8);
                    } else {
                        s->gpr[GPR_RAX] = ld32le(p);
                        s->gpr[GPR_RDX] = ld32le(p + 4);
                    }
                } else if (e->base != GPR_RAX && e->index != GPR_RAX) {
                    s->gpr[GPR_RAX] = ld64le(p);
                }
            } else if ((!strcmp(n, "jmp") || !strcmp(n, "call")) && !rng_one_in(r, 16)) {
                uint64_t to = CODE_VA + 0x100 + rng_below(r, 0x600);
                st64le(p, f->wide ? to : to | rng_next(r) << 32);
            } else if (!strncmp(n, "bt", 2) && row->opnd[1] == OPND_Gv) { /* the bit offset reaches memory beside the operand */
                if ((int)e->reg != e->base && (int)e->reg != e->index)
                    s->gpr[e->reg] = (uint64_t)0 + rng_below(r, 1600) - 800;
                else
                    s->gpr[e->reg] = target; /* a wild offset: whatever happens must be the same */
            }
        }
    } else if ((!strcmp(n, "jmp") || !strcmp(n, "call")) && !rng_one_in(r, 16) && e->rm != GPR_RSP) {
        s->gpr[e->rm] = CODE_VA + 0x100 + rng_below(r, 0x600);
    } else if (!strcmp(n, "cmpxchg") && rng_one_in(r, 2)) {
        s->gpr[GPR_RAX] = s->gpr[e->rm];
    } else if (name_in(diff_selector_operand, n) && !e->memory) {
        uint16_t selector = value_selector(r);
        s->gpr[e->rm] = (s->gpr[e->rm] & ~(uint64_t)0xFFFF) | selector;
    }
    if (!strcmp(n, "ret")) {
        uint64_t at_sp = s->gpr[GPR_RSP] - BLOCK_VA;
        if (at_sp + 8 <= BLOCK_SIZE && !rng_one_in(r, 16)) {
            uint64_t to = CODE_VA + 0x100 + rng_below(r, 0x600);
            st64le(s->mem + at_sp, f->wide ? to : to | rng_next(r) << 32);
        }
    }
    if (!f->wide)
        for (k = 0; k < 16; k++)
            s->gpr[k] = k < 8 ? s->gpr[k] & mask : 0;
    s->rip = CODE_VA + at;
}

/* ---- the case in emu ---- */
enum { /* physical pages */
    PHYS_PML4 = 0x1000, PHYS_PDPT = 0x2000, PHYS_PD = 0x3000, PHYS_PT_CODE = 0x4000, PHYS_PT_DATA = 0x5000, PHYS_GDT = 0x6000, PHYS_IDT = 0x7000,
    PHYS_TSS = 0x8000, PHYS_STUBS = 0x9000, PHYS_STACK_TOP = 0xC000, PHYS_PDPT2 = 0xD000, PHYS_PD2 = 0xE000, PHYS_CODE = 0x100000, PHYS_DATA = 0x110000, PHYS_SIZE = 0x400000
};
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80 };
#define PTE_NX (UINT64_C(1) << 63)
struct rig {
    struct emu *e;
    struct cpu *c;
    struct region ram;
    uint8_t *bytes;
};

static void rig_fail(const char *what)
{
    fprintf(stderr, "cpu_diff: cannot build the machine: %s\n", what);
    exit(2);
}
static void rig_build(struct rig *m)
{
    struct err err;
    struct ram_block *ram;
    uint8_t *b;
    unsigned k;
    memset(&err, 0, sizeof err);
    m->e = calloc(1, sizeof *m->e);
    if (!m->e || clock_create(m->e) || memory_create(m->e, &err))
        rig_fail(err.text);
    ram = ram_block_create(m->e, "ram", PHYS_SIZE, false, &err);
    if (!ram)
        rig_fail(err.text);
    m->e->ram = ram;
    region_init_ram(&m->ram, "ram", ram, 0, PHYS_SIZE);
    region_add(m->e, &m->e->memory, &m->ram, 0, 0);
    if (trace_cache_create(m->e))
        rig_fail("traces");
    m->e->cpus = calloc(1, sizeof *m->e->cpus);
    m->e->cpu_count = 1;
    if (cpu_create(m->e, 0, &m->c, &err) || cpu_set_model(m->c, "max", &err))
        rig_fail(err.text);
    m->e->cpus[0] = m->c;
    m->bytes = b = ram->bytes;
    st64le(b + PHYS_PML4, PHYS_PDPT | PTE_P | PTE_W | PTE_U);
    st64le(b + PHYS_PDPT, PHYS_PD | PTE_P | PTE_W | PTE_U);
    st64le(b + PHYS_PML4 + 8 * 256, PHYS_PDPT2 | PTE_P | PTE_W); /* the supervisor's first 2 MiB, at SUPERVISOR_VA */
    st64le(b + PHYS_PDPT2, PHYS_PD2 | PTE_P | PTE_W);
    st64le(b + PHYS_PD2, PTE_P | PTE_W | PTE_PS | PTE_A | PTE_D);
    st64le(b + PHYS_PD + 8 * (CODE_VA >> 21), PHYS_PT_CODE | PTE_P | PTE_W | PTE_U);
    st64le(b + PHYS_PD + 8 * (DATA_VA >> 21), PHYS_PT_DATA | PTE_P | PTE_W | PTE_U);
    st64le(b + PHYS_PT_CODE, PHYS_CODE | PTE_P | PTE_U | PTE_A);
    st64le(b + PHYS_PT_DATA, PHYS_DATA | PTE_P | PTE_W | PTE_U | PTE_NX);
    st64le(b + PHYS_PT_DATA + 8, (PHYS_DATA + 0x1000) | PTE_P | PTE_W | PTE_U | PTE_NX);
    st64le(b + PHYS_PT_DATA + 32, (PHYS_DATA + 0x4000) | PTE_P | PTE_U | PTE_NX);
    /* selectors as Linux has them, so that what a program sees of them is the same */
    st64le(b + PHYS_GDT + 0x08, UINT64_C(0x00CF9B000000FFFF)); /* 08: supervisor code, 32-bit */
    st64le(b + PHYS_GDT + 0x10, UINT64_C(0x00AF9B000000FFFF)); /* 10: supervisor code, 64-bit */
    st64le(b + PHYS_GDT + 0x18, UINT64_C(0x00CF93000000FFFF)); /* 18: supervisor data */
    st64le(b + PHYS_GDT + 0x20, UINT64_C(0x00CFFB000000FFFF)); /* 23: user code, 32-bit */
    st64le(b + PHYS_GDT + 0x28, UINT64_C(0x00CFF3000000FFFF)); /* 2B: user data */
    st64le(b + PHYS_GDT + 0x30, UINT64_C(0x00AFFB000000FFFF)); /* 33: user code, 64-bit */
    st64le(b + PHYS_TSS + 4, SUPERVISOR_VA + PHYS_STACK_TOP); /* RSP0 */
    for (k = 0; k < 256; k++) {                              /* 64-bit interrupt gates, DPL 3, to a HLT for each vector */
        uint32_t stub = PHYS_STUBS + 8 * k;
        st64le(b + PHYS_IDT + 16 * k, (stub & 0xFFFF) | UINT64_C(0x10) << 16 | UINT64_C(0xEE) << 40 | (uint64_t)(stub >> 16) << 48);
        st64le(b + PHYS_IDT + 16 * k + 8, SUPERVISOR_VA >> 32);
        b[stub] = 0xF4;
    }
    memset(b + PHYS_CODE, 0xCC, 4096);
}

static void seg_set(struct seg *s, uint16_t selector, uint32_t attr)
{
    s->selector = selector;
    s->attr = attr;
    s->limit = UINT32_MAX;
    s->base = 0;
}
/* Loads the case's state: user mode, 64-bit or compatibility. */
static void rig_enter(struct rig *m, const struct diff_case *t)
{
    struct cpu *c = m->c;
    uint8_t image[512];
    unsigned k;
    enum { DATA3 = SEG_P | SEG_DPL | SEG_S | SEG_WRITE_READ | SEG_ACCESSED | SEG_DB | SEG_G };
    for (k = 0; k < 16; k++)
        c->gpr[k] = t->in.gpr[k];
    c->rip = t->in.rip;
    seg_set(&c->seg[SEG_CS], t->wide ? 0x33 : 0x23, SEG_P | SEG_DPL | SEG_S | SEG_CODE | SEG_WRITE_READ | SEG_ACCESSED | SEG_G | (t->wide ? SEG_L : SEG_DB));
    for (k = SEG_ES; k <= SEG_GS; k++)
        if (k != SEG_CS)
            seg_set(&c->seg[k], k == SEG_FS || k == SEG_GS ? 0 : 0x2B, DATA3);
    c->seg[SEG_GS].base = DATA_VA;
    seg_set(&c->seg[SEG_TR], 0x40, SEG_P | 11);
    c->seg[SEG_TR].base = SUPERVISOR_VA + PHYS_TSS;
    c->seg[SEG_TR].limit = 0x67;
    c->gdtr.base = SUPERVISOR_VA + PHYS_GDT;
    c->gdtr.limit = 0x7F;
    c->idtr.base = SUPERVISOR_VA + PHYS_IDT;
    c->idtr.limit = 0xFFF;
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PGE;
    c->efer = EFER_LME | EFER_LMA | EFER_NXE;
    c->cr2 = 0;
    if (c->cr3 != PHYS_PML4) {
        c->cr3 = PHYS_PML4;
        tlb_flush_all(c);
    }
    c->cpl = 3;
    c->halted = c->shutdown = c->waiting_sipi = false;
    c->interrupt_shadow = 0;
    memset(image, 0, sizeof image);
    memcpy(image, t->in.fx, sizeof t->in.fx);
    c->code_size = 8; /* so that all sixteen XMM registers are loaded */
    x87_unpack_fxsave(c, image, true);
    cpu_set_eflags(c, t->in.flags);
    cpu_update_mode(c);
    memset(m->bytes + PHYS_DATA, 0, 0x2000);
    memcpy(m->bytes + PHYS_DATA + BLOCK_OFFSET, t->in.mem, BLOCK_SIZE);
}
static void rig_leave(struct rig *m, struct diff_case *t)
{
    struct cpu *c = m->c;
    uint8_t image[512];
    c->code_size = 8;
    x87_pack_fxsave(c, image, true);
    memcpy(t->out.fx, image, sizeof t->out.fx);
    memcpy(t->out.mem, m->bytes + PHYS_DATA + BLOCK_OFFSET, BLOCK_SIZE);
}
static void rig_code(struct rig *m, const struct diff_case *t, bool on)
{
    uint8_t filler[208];
    memset(filler, 0xCC, sizeof filler);
    mem_write(m->e, PHYS_CODE + t->at, on ? t->code : filler, t->length);
}

/* By cpu_run(): the fault's gate leads to a HLT. */
static void rig_run(struct rig *m, struct diff_case *t)
{
    struct cpu *c = m->c;
    const uint8_t *frame;
    unsigned k;
    bool has_error;
    rig_enter(m, t);
    for (k = 0; k < 64 && !c->halted && !c->shutdown; k++)
        cpu_run(c, 4096);
    memset(&t->out, 0, sizeof t->out);
    t->out.vector = -1;
    if (c->shutdown || !c->halted)
        return;
    t->out.vector = (int32_t)((c->rip - 1 - SUPERVISOR_VA - PHYS_STUBS) / 8);
    has_error = t->out.vector == EXC_DF || (t->out.vector >= EXC_TS && t->out.vector <= EXC_PF) || t->out.vector == EXC_AC;
    frame = m->bytes + ((c->gpr[GPR_RSP] - SUPERVISOR_VA) & (PHYS_SIZE / 2 - 1));
    if (has_error) {
        t->out.error = ld32le(frame);
        frame += 8;
    }
    t->out.rip = ld64le(frame);
    t->out.flags = ld32le(frame + 16) & FLAGS_COMPARED;
    for (k = 0; k < 16; k++)
        t->out.gpr[k] = c->gpr[k];
    t->out.gpr[GPR_RSP] = ld64le(frame + 24);
    t->out.cr2 = t->out.vector == EXC_PF ? c->cr2 : 0;
    rig_leave(m, t);
}

/* By the rows' plain functions, operands of vector operations as cpu.h lays them down. */
static unsigned operand_bytes(const struct insn *i, unsigned kind)
{
    switch (kind) {
    case OPND_Wx: case OPND_Mdq: case OPND_Ux: case OPND_Vx: return 16;
    case OPND_Wq: case OPND_Mq: case OPND_Eq: case OPND_Qq: case OPND_Gq: return 8;
    case OPND_Wd: case OPND_Md: case OPND_Ed: case OPND_Qd: case OPND_Gd: case OPND_Rd: return 4;
    case OPND_Ww: case OPND_Mw: case OPND_Ew: return 2;
    case OPND_Wb: case OPND_Mb: case OPND_Eb: return 1;
    case OPND_Ey: case OPND_My: case OPND_Gy: return i->rex & 8 ? 8 : 4;
    default: return 0;
    }
}
static bool operand_in_reg_field(unsigned k) { return (k >= OPND_Gb && k <= OPND_Gq) || k == OPND_Vx || k == OPND_Pq; }
static bool operand_is_gpr(unsigned k) { return (k >= OPND_Eb && k <= OPND_Eq) || (k >= OPND_Gb && k <= OPND_Gq) || (k >= OPND_Rd && k <= OPND_Rv) || operand_is_mem_only(k); }
static bool operand_is_mmx(unsigned k) { return k >= OPND_Pq && k <= OPND_Nq; }

static int direct_vec(struct cpu *c, const struct insn *i)
{
    const struct insn_row *row = i->row;
    unsigned ka = row->opnd[0], kb = ka, k, n, size;
    union vec *d, *b;
    bool dmem;
    int r;
    for (k = 1; k < 4; k++)
        if (row->opnd[k] != OPND_NONE && row->opnd[k] != OPND_Ib)
            kb = row->opnd[k];
    if (row->attr & ROW_MMX && (r = x87_check_pending(c)) != 0)
        return r;
    memset(&c->vtmp[0], 0xA5, 32);
    memset(&c->vtmp[1], 0xA5, 32);
    size = operand_bytes(i, kb);
    /* b */
    if (i->memory && !operand_in_reg_field(kb) && kb != ka) {
        uint8_t image[16] = { 0 };
        uint64_t at = insn_address(c, i);
        if (size == 16 && !(row->attr & ROW_UNALIGNED) && (at & 15))
            return cpu_raise_error(c, EXC_GP, 0);
        if ((r = cpu_load_bytes(c, i->seg, at, image, size)) != 0)
            return r;
        b = &c->vtmp[0];
        b->q[0] = ld64le(image);
        b->q[1] = ld64le(image + 8);
    } else {
        n = operand_in_reg_field(kb) ? i->reg : i->rm;
        if (operand_is_mmx(kb)) {
            b = &c->vtmp[0];
            b->q[0] = c->x87[n & 7].mant;
        } else if (operand_is_gpr(kb)) {
            b = &c->vtmp[0];
            b->q[0] = cpu_get(c, n, size ? size : 8);
        } else {
            b = &c->xmm[n];
        }
    }
    /* d */
    dmem = i->memory && !operand_in_reg_field(ka);
    n = operand_in_reg_field(ka) ? i->reg : i->rm;
    if (dmem || operand_is_gpr(ka) || operand_is_mmx(ka)) {
        d = &c->vtmp[1];
        if (operand_is_mmx(ka) && !dmem)
            d->q[0] = c->x87[n & 7].mant;
    } else {
        d = &c->xmm[n];
    }
    if (row->attr & ROW_MMX) {
        c->x87_top = 0;
        c->x87_tags = 0;
    }
    if (dmem && operand_bytes(i, ka) == 16 && !(row->attr & ROW_UNALIGNED) && (insn_address(c, i) & 15))
        return cpu_raise_error(c, EXC_GP, 0);
    if ((r = row->vec(c, d, d, b, (unsigned)i->imm & 0xFF)) != 0)
        return r;
    if (dmem) {
        uint8_t image[16];
        st64le(image, d->q[0]);
        st64le(image + 8, d->q[1]);
        if ((r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, operand_bytes(i, ka))) != 0)
            return r;
    }
    if (dmem)
        return CPU_OK;
    if (operand_is_mmx(ka)) {
        c->x87[n & 7].mant = d->q[0];
        c->x87[n & 7].exp = 0xFFFF;
    } else if (operand_is_gpr(ka)) {
        c->gpr[n] = operand_bytes(i, ka) == 8 ? d->q[0] : (uint32_t)d->q[0];
    }
    return CPU_OK;
}
static void rig_direct(struct rig *m, struct diff_case *t)
{
    struct cpu *c = m->c;
    struct insn i;
    unsigned steps, k;
    int r;
    rig_enter(m, t);
    memset(&t->out, 0, sizeof t->out);
    for (steps = 0;; steps++) {
        const uint8_t *p;
        c->next_rip = c->rip;
        if (steps > 300 || c->rip - CODE_VA > 4080) { /* a jump out of the page: to nothing, or to data (no execution there) */
            t->out.vector = c->rip - CODE_VA > 4080 ? EXC_PF : -1;
            if (t->out.vector < 0)
                break;
            t->out.rip = c->rip;
            t->out.cr2 = c->rip;
            t->out.error = c->rip - DATA_VA < 0x2000 || c->rip - DATA_READ_ONLY < 0x1000 ? 0x15 : 0x14;
            break;
        }
        p = m->bytes + PHYS_CODE + (c->rip - CODE_VA);
        if (*p == 0xCC) {
            t->out.vector = EXC_BP;
            t->out.rip = c->rip + 1;
            break;
        }
        r = cpu_decode(c, c->mode_key, p, 15, &i);
        if (!r) {
            c->next_rip = c->rip + i.length;
            if (i.memory)
                i.disp += 0;
            r = i.row->how == HOW_VEC ? direct_vec(c, &i) : i.row->call(c, &i);
        } else {
            r = cpu_raise(c, (unsigned)r);
        }
        if (r) {
            t->out.vector = c->fault.vector;
            t->out.error = c->fault.flags & FAULT_HAS_ERROR ? c->fault.error : 0;
            t->out.cr2 = c->fault.vector == EXC_PF ? c->fault.cr2 : 0;
            t->out.rip = c->rip;
            break;
        }
        c->rip = c->next_rip;
    }
    t->out.flags = cpu_eflags(c) & FLAGS_COMPARED;
    for (k = 0; k < 16; k++)
        t->out.gpr[k] = c->gpr[k];
    rig_leave(m, t);
}

/* ---- the case on the host's processor ---- */
#if DIFF_NATIVE
enum { NATIVE_BATCH = 128 };
enum { /* indices of uc_mcontext.gregs */
    REG_R8_N, REG_R9_N, REG_R10_N, REG_R11_N, REG_R12_N, REG_R13_N, REG_R14_N, REG_R15_N, REG_RDI_N, REG_RSI_N, REG_RBP_N, REG_RBX_N, REG_RDX_N, REG_RAX_N,
    REG_RCX_N, REG_RSP_N, REG_RIP_N, REG_EFL_N, REG_CSGSFS_N, REG_ERR_N, REG_TRAPNO_N, REG_OLDMASK_N, REG_CR2_N
};
struct native_share {
    unsigned count, done;
    struct diff_case cases[NATIVE_BATCH];
};
static struct native_share *native;  /* shared with the child; test programs may have file-scope variables */
static volatile unsigned native_now; /* in the child */
static uint8_t *native_code;         /* there: the code page where it can be written; at CODE_VA it cannot, as in emu */
static ucontext_t native_home;

static void native_load(ucontext_t *u, const struct diff_case *t)
{
    static const int order[16] = { REG_RAX_N, REG_RCX_N, REG_RDX_N, REG_RBX_N, REG_RSP_N, REG_RBP_N, REG_RSI_N, REG_RDI_N, REG_R8_N, REG_R9_N, REG_R10_N,
                                   REG_R11_N, REG_R12_N, REG_R13_N, REG_R14_N, REG_R15_N };
    greg_t *g = u->uc_mcontext.gregs;
    uint8_t *fx = (uint8_t *)u->uc_mcontext.fpregs;
    unsigned k;
    for (k = 0; k < 16; k++)
        g[order[k]] = (greg_t)t->in.gpr[k];
    g[REG_RIP_N] = (greg_t)t->in.rip;
    g[REG_EFL_N] = (greg_t)t->in.flags;
    g[REG_CSGSFS_N] = (g[REG_CSGSFS_N] & ~(greg_t)0xFFFF) | (t->wide ? 0x33 : 0x23);
    memcpy(fx, t->in.fx, 416);
    st32le(fx + 28, 0xFFFF);
    fx[512] |= 3; /* XSTATE_BV: x87 and SSE are not in their initial state */
    memset((void *)(uintptr_t)DATA_VA, 0, 0x2000);
    memcpy((void *)(uintptr_t)BLOCK_VA, t->in.mem, BLOCK_SIZE);
    memset(native_code, 0xCC, 4096);
    memcpy(native_code + t->at, t->code, t->length);
}
static void native_save(const ucontext_t *u, struct diff_case *t)
{
    static const int order[16] = { REG_RAX_N, REG_RCX_N, REG_RDX_N, REG_RBX_N, REG_RSP_N, REG_RBP_N, REG_RSI_N, REG_RDI_N, REG_R8_N, REG_R9_N, REG_R10_N,
                                   REG_R11_N, REG_R12_N, REG_R13_N, REG_R14_N, REG_R15_N };
    const greg_t *g = u->uc_mcontext.gregs;
    unsigned k;
    memset(&t->out, 0, sizeof t->out);
    for (k = 0; k < 16; k++)
        t->out.gpr[k] = (uint64_t)g[order[k]];
    t->out.rip = (uint64_t)g[REG_RIP_N];
    t->out.flags = (uint32_t)g[REG_EFL_N] & FLAGS_COMPARED;
    t->out.vector = (int32_t)g[REG_TRAPNO_N];
    if (t->out.vector == EXC_PF) {
        t->out.error = (uint32_t)g[REG_ERR_N];
        t->out.cr2 = (uint64_t)g[REG_CR2_N];
    } else if (t->out.vector == EXC_GP || t->out.vector == EXC_SS || t->out.vector == EXC_NP) {
        t->out.error = (uint32_t)g[REG_ERR_N];
    }
    memcpy(t->out.fx, u->uc_mcontext.fpregs, 416);
    memcpy(t->out.mem, (void *)(uintptr_t)BLOCK_VA, BLOCK_SIZE);
}
/* SIGUSR1 begins a batch; every other signal is the end of a case. */
static void native_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)info;
    if (sig == SIGUSR1) {
        native_home = *u;
        native_now = 0;
    } else {
        native_save(u, &native->cases[native_now]);
        native->done = ++native_now;
    }
    if (native_now < native->count) {
        native_load(u, &native->cases[native_now]);
    } else {
        struct _libc_fpstate *fp = u->uc_mcontext.fpregs;
        memcpy(u->uc_mcontext.gregs, native_home.uc_mcontext.gregs, sizeof native_home.uc_mcontext.gregs);
        memset(fp, 0, 28);
        st16le(fp, 0x37F);
        st32le((uint8_t *)fp + 24, 0x1F80);
    }
}
static void native_child(int from_parent, int to_parent)
{
    static const int signals[] = { SIGUSR1, SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS };
    /* mov eax, 2Bh; mov ds, eax; mov es, eax; ret: data segments for 32-bit code */
    static const uint8_t load_segments[] = { 0xB8, 0x2B, 0, 0, 0, 0x8E, 0xD8, 0x8E, 0xC0, 0xC3 };
    static uint8_t alternate[1 << 16];
    struct sigaction sa;
    stack_t ss;
    unsigned k;
    char byte;
    void (*fn)(void);
    void *p = (void *)(uintptr_t)CODE_VA;
    memset(&ss, 0, sizeof ss);
    ss.ss_sp = alternate;
    ss.ss_size = sizeof alternate;
    sigaltstack(&ss, NULL);
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = native_signal;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (k = 0; k < sizeof signals / sizeof *signals; k++)
        sigaction(signals[k], &sa, NULL);
    if (mmap(p, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
        mmap((void *)(uintptr_t)DATA_VA, 0x2000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
        mmap((void *)(uintptr_t)DATA_READ_ONLY, 0x1000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        _exit(3);
    memset((void *)(uintptr_t)DATA_VA, 0, 0x2000);
    byte = *(volatile char *)(uintptr_t)DATA_READ_ONLY;
    /* mremap() of size 0 makes a second mapping of shared memory */
    native_code = (uint8_t *)(uintptr_t)syscall(SYS_mremap, (unsigned long)CODE_VA, 0ul, 4096ul, 1ul);
    memcpy(native_code, load_segments, sizeof load_segments);
    if (mprotect(p, 4096, PROT_READ | PROT_EXEC))
        _exit(3);
    memcpy(&fn, &p, sizeof fn);
    fn();
    syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, (unsigned long)DATA_VA);
    while (read(from_parent, &byte, 1) == 1) {
        alarm(20);
        raise(SIGUSR1);
        alarm(0);
        if (write(to_parent, &byte, 1) != 1)
            break;
    }
    _exit(0);
}
struct native_runner {
    pid_t pid;
    int to_child, from_child;
};
static bool native_start(struct native_runner *n)
{
    int down[2], up[2];
    if (!native) {
        native = mmap(NULL, sizeof *native, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (native == MAP_FAILED)
            return false;
    }
    if (pipe(down) || pipe(up))
        return false;
    fflush(stdout);
    n->pid = fork();
    if (n->pid < 0)
        return false;
    if (n->pid == 0) {
        close(down[1]);
        close(up[0]);
        native_child(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    n->to_child = down[1];
    n->from_child = up[0];
    return true;
}
static void native_stop(struct native_runner *n)
{
    close(n->to_child);
    close(n->from_child);
    waitpid(n->pid, NULL, 0);
}
/* Runs cases[0..count) of the shared batch; a case that killed the child gets vector -2. */
static void native_run(struct native_runner *n, unsigned count)
{
    char byte = 0;
    native->count = count;
    native->done = 0;
    if (write(n->to_child, &byte, 1) == 1 && read(n->from_child, &byte, 1) == 1)
        return;
    native_stop(n);
    fprintf(stderr, "cpu_diff: the child died in case %u of %u\n", native->done, count);
    for (; native->done < count; native->done++) {
        memset(&native->cases[native->done].out, 0, sizeof native->cases[0].out);
        native->cases[native->done].out.vector = -2;
    }
    if (!native_start(n))
        exit(2);
}
#endif

/* ---- comparison ---- */
struct report {
    unsigned long forms, cases, differences, forms_different, last_bit, skipped;
    unsigned long printed;
};
static bool diff_verbose;

/* By how much a shift or a rotation does so. */
static unsigned shift_count(const struct form *f, const struct diff_case *t)
{
    unsigned k, mask = f->opsize == 8 ? 63 : 31;
    for (k = 1; k < 4; k++) {
        if (f->row->opnd[k] == OPND_Ib)
            return t->code[t->length - 1] & mask;
        if (f->row->opnd[k] == OPND_CL)
            return (unsigned)t->in.gpr[GPR_RCX] & mask;
    }
    return 1;
}
static uint32_t masked_flags(const struct flag_mask *masks, size_t count, const struct form *f, const struct diff_case *t)
{
    size_t k;
    uint32_t flags = 0;
    for (k = 0; k < count; k++) {
        if (!name_in(masks[k].names, f->row->name))
            continue;
        if (masks[k].when == MASK_REGISTER_COUNT_NOT_1 && (f->mem || f->row->opnd[1] != OPND_Ib || shift_count(f, t) == 1))
            continue;
        if (masks[k].when == MASK_COUNT_NOT_0 && shift_count(f, t) == 0)
            continue;
        if (masks[k].when == MASK_COUNT_ABOVE_1 && shift_count(f, t) <= 1)
            continue;
        flags |= masks[k].flags;
    }
    return flags;
}
/* Clears what is not compared. */
static void normalise(const struct form *f, const struct diff_case *t, struct diff_state *s)
{
    unsigned k;
    s->flags &= ~masked_flags(diff_flag_masks, sizeof diff_flag_masks / sizeof *diff_flag_masks, f, t);
    if (!strcmp(f->row->name, "call") && s->vector == EXC_GP) /* hardware stores the return address, then finds that the target is not canonical */
        memset(s->mem, 0, sizeof s->mem);
    if (s->vector == EXC_PF && s->cr2 >> 63) /* Linux says "present" of every address that is the kernel's */
        s->error |= 1;
    if (f->row->attr & ROW_MMX && f->mem && s->vector != EXC_BP && s->vector != EXC_MF && s->vector != EXC_XM) {
        /* Hardware has begun to turn x87 state into MMX state when the operand faults: TOP is 0, the tags may be set. The OS restarts. */
        memset(s->fx, 0, 24);
        memset(s->fx + 32, 0, 128);
    }
    memset(s->fx + 5, 0, 1);
    memset(s->fx + 6, 0, 2);  /* FOP and FDP: the host writes them only where an unmasked exception came (CPUID.7.EBX bit 6) */
    memset(s->fx + 16, 0, 8);
    if (!(f->row->attr & ROW_X87))
        memset(s->fx + 8, 0, 8); /* FIP */
    memset(s->fx + 28, 0, 4);
    for (k = 0; k < 8; k++)
        memset(s->fx + 42 + 16 * k, 0, 6);
    if (!f->wide) {
        memset(s->gpr + 8, 0, 64);
        memset(s->fx + 288, 0, 128);
        for (k = 0; k < 8; k++)
            s->gpr[k] = (uint32_t)s->gpr[k];
        s->rip = (uint32_t)s->rip;
    }
}
#if DIFF_NATIVE
enum { FSW_ES = 0x80, FCW_UM = 0x10 }; /* unmasked exception is pending; underflow is masked */
/* Then, where the host is of another vendor: */
static void normalise_vendor(const struct form *f, const struct diff_case *t, struct diff_state *s)
{
    if (s->vector == EXC_BP)
        s->flags &= ~masked_flags(diff_vendor_flag_masks, sizeof diff_vendor_flag_masks / sizeof *diff_vendor_flag_masks, f, t);
    if (!(ld16le(s->fx + 2) & FSW_ES)) /* FIP: AMD's save and restore it only while an unmasked exception is pending (APM vol. 5 FXSAVE) */
        memset(s->fx + 8, 0, 8);
}
/* Where this program lies below 4 GiB, as one that is linked to a fixed address does: there natively wild pointers find memory. */
static bool in_own_image(uint64_t va)
{
    static struct { uint64_t from, to; } ranges[64];
    static int count = -1;
    int k;
    if (count < 0) {
        FILE *f = fopen("/proc/self/maps", "r");
        char line[512];
        count = 0;
        while (f && count < 64 && fgets(line, sizeof line, f))
            if (sscanf(line, "%" SCNx64 "-%" SCNx64, &ranges[count].from, &ranges[count].to) == 2 && ranges[count].from < UINT64_C(0x100000000))
                count++;
        if (f)
            fclose(f);
    }
    for (k = 0; k < count; k++)
        if (va >= ranges[k].from && va < ranges[k].to)
            return true;
    return false;
}
/* a: ours */
static bool states_equal(const struct diff_state *a, const struct diff_state *b)
{
    return (a->vector == EXC_PF && in_own_image(a->cr2)) || /* not comparable */
           (a->vector == b->vector && a->rip == b->rip && a->cr2 == b->cr2 && a->flags == b->flags && a->error == b->error &&
           !memcmp(a->gpr, b->gpr, sizeof a->gpr) && !memcmp(a->fx, b->fx, sizeof a->fx) && !memcmp(a->mem, b->mem, sizeof a->mem));
}
static void print_difference(const struct form *f, const struct diff_case *t, const struct diff_state *got, const char *how)
{
    static const char *const names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
    const struct diff_state *in = &t->in, *want = &t->out;
    unsigned k;
    printf("DIFF %s (%s):", f->name, how);
    for (k = 0; k < t->length; k++)
        printf(" %02x", t->code[k]);
    printf("\n");
    if (got->vector != want->vector || got->error != want->error || got->cr2 != want->cr2 || got->rip != want->rip)
        printf("  vector %d error %x cr2 %" PRIx64 " rip %" PRIx64 ", wanted %d %x %" PRIx64 " %" PRIx64 "\n", (int)got->vector, (unsigned)got->error, got->cr2, got->rip,
               (int)want->vector, (unsigned)want->error, want->cr2, want->rip);
    if (got->flags != want->flags)
        printf("  flags %03x, wanted %03x (before %03x)\n", (unsigned)got->flags, (unsigned)want->flags, (unsigned)(in->flags & FLAGS_COMPARED));
    for (k = 0; k < 16; k++)
        if (got->gpr[k] != want->gpr[k])
            printf("  %s %016" PRIx64 ", wanted %016" PRIx64 " (before %016" PRIx64 ")\n", names[k], got->gpr[k], want->gpr[k], in->gpr[k]);
    for (k = 0; k < 416; k += 8)
        if (memcmp(got->fx + k, want->fx + k, 8))
            printf("  fx+%u %016" PRIx64 ", wanted %016" PRIx64 " (before %016" PRIx64 ")\n", k, ld64le(got->fx + k), ld64le(want->fx + k), ld64le(in->fx + k));
    for (k = 0; k < BLOCK_SIZE; k += 8)
        if (memcmp(got->mem + k, want->mem + k, 8))
            printf("  mem+%x %016" PRIx64 ", wanted %016" PRIx64 " (before %016" PRIx64 ")\n", k, ld64le(got->mem + k), ld64le(want->mem + k), ld64le(in->mem + k));
    printf("  in:");
    for (k = 0; k < 16; k++)
        printf(" %s=%" PRIx64, names[k], in->gpr[k]);
    printf(" flags=%03x\n", (unsigned)in->flags);
    if (f->row->attr & (ROW_X87 | ROW_MMX)) {
        printf("  x87 cw=%04x sw=%04x tags=%02x:", ld16le(in->fx), ld16le(in->fx + 2), in->fx[4]);
        for (k = 0; k < 8; k++)
            printf(" %04x.%016" PRIx64, ld16le(in->fx + 40 + 16 * k), ld64le(in->fx + 32 + 16 * k));
        printf("\n");
    }
    if (f->row->attr & ROW_SSE) {
        printf("  mxcsr=%04x", (unsigned)ld32le(in->fx + 24));
        for (k = 0; k < 16; k++)
            printf("%s%016" PRIx64 "%016" PRIx64, k % 4 ? " " : "\n   ", ld64le(in->fx + 168 + 16 * k), ld64le(in->fx + 160 + 16 * k));
        printf("\n");
    }
}

/* A form with which a row of diff_vendor can have to do. */
static bool vendor_form_differs(const struct form *f, unsigned n)
{
    unsigned operand = f->row->opnd[0];
    if (!name_in(diff_vendor[n].names, f->row->name))
        return false;
    switch (diff_vendor[n].kind) {
    case VENDOR_ALIGNMENT: return f->mem;
    case VENDOR_REX_B: return f->wide;
    case VENDOR_SELECTOR: return !f->wide && f->opsize == 4 && operand >= OPND_ES && operand <= OPND_GS;
    case VENDOR_NEAR_16: return f->wide && f->opsize == 2;
    case VENDOR_WRAP: return !f->wide;
    case VENDOR_FAULT_FLAGS: return f->rep != 0;
    case VENDOR_REGISTER: return !f->mem;
    case VENDOR_COUNT: return f->opsize == 2;
    default: return true;
    }
}
static bool lane_is_nan(const uint8_t *p, unsigned size)
{
    return size == 8 ? (ld64le(p) & INT64_MAX) > UINT64_C(0x7FF0000000000000) : (ld32le(p) & INT32_MAX) > 0x7F800000u;
}
/* Makes XMM lanes of a form that hold a NaN in both states the same. */
static void take_nans(const struct form *f, struct diff_state *to, const struct diff_state *from)
{
    unsigned k, size = f->fill == FILL_F64 ? 8 : 4;
    for (k = 160; k < 416; k += size)
        if (lane_is_nan(to->fx + k, size) && lane_is_nan(from->fx + k, size))
            memcpy(to->fx + k, from->fx + k, size);
}
/* True if the table tells why the host's result, t->out, is another one. */
static bool vendor_explains(const struct form *f, const struct diff_case *t, const struct diff_state *mine)
{
    static struct diff_state alike;
    const struct diff_state *want = &t->out;
    unsigned n;
    uint64_t at;
    for (n = 0; n < sizeof diff_vendor / sizeof *diff_vendor; n++) {
        bool so = false;
        if (!vendor_form_differs(f, n))
            continue;
        alike = *mine;
        switch (diff_vendor[n].kind) {
        case VENDOR_APPROXIMATION:
            memcpy(alike.fx + 160, want->fx + 160, 256);
            so = states_equal(&alike, want);
            break;
        case VENDOR_NAN:
            take_nans(f, &alike, want);
            so = states_equal(&alike, want);
            break;
        case VENDOR_ALIGNMENT: so = mine->vector == EXC_GP && want->vector != EXC_GP; break;
        case VENDOR_REX_B: so = t->length >= 2 && (t->code[t->length - 2] & 0xF1) == 0x41; break;
        case VENDOR_SELECTOR:
            at = want->gpr[GPR_RSP] - BLOCK_VA;
            if (at <= BLOCK_SIZE - 4)
                memcpy(alike.mem + at + 2, want->mem + at + 2, 2);
            so = states_equal(&alike, want);
            break;
        case VENDOR_NEAR_16: so = true; break;
        case VENDOR_WRAP: so = mine->vector == EXC_PF && (want->vector == EXC_GP || want->vector == EXC_SS) && mine->cr2 > UINT32_MAX - 16; break;
        case VENDOR_FAULT_ADDRESS:
            alike.cr2 = want->cr2;
            so = mine->vector == EXC_PF && states_equal(&alike, want);
            break;
        case VENDOR_FAULT_FLAGS:
            alike.flags = want->flags;
            so = mine->vector == EXC_PF && states_equal(&alike, want);
            break;
        case VENDOR_FAULT_ORDER:
            so = (mine->vector == EXC_BR || (mine->vector == EXC_BP && ld16le(mine->fx + 2) & FSW_ES)) &&
                 (want->vector == EXC_PF || want->vector == EXC_GP || want->vector == EXC_SS);
            break;
        case VENDOR_TINY: /* ST(1) is at 48 in the image */
            so = !(ld16le(t->in.fx) & FCW_UM) && (ld16le(t->in.fx + 56) & 0x7FFF) == 0x7FFF && ld64le(t->in.fx + 48) == UINT64_C(1) << 63;
            break;
        case VENDOR_REGISTER: so = want->vector == EXC_UD; break;
        case VENDOR_COUNT: so = shift_count(f, t) > 16; break;
        }
        if (so)
            return true;
    }
    return false;
}
#endif

/* ---- forms ---- */
static const char *excluded_reason(const struct insn_row *row)
{
    unsigned k;
    if (row->attr & ROW_PRIV)
        return diff_excluded[0].reason;
    for (k = 0; k < sizeof diff_excluded / sizeof *diff_excluded; k++)
        if (name_in(diff_excluded[k].names, row->name))
            return diff_excluded[k].reason;
    for (k = 0; k < 4; k++) {
        if (!strcmp(row->name, "pop") ? row->opnd[k] >= OPND_ES && row->opnd[k] <= OPND_GS : k == 0 && row->opnd[k] == OPND_Sw)
            return diff_loads_segment;
        if (row->opnd[k] == OPND_Cd || row->opnd[k] == OPND_Dd)
            return "privileged (tests/cpu_system.c)";
    }
    return NULL;
}
typedef void (*form_fn)(void *opaque, const struct form *f);

static void form_name(struct form *f)
{
    snprintf(f->name, sizeof f->name, "%s%s%s %x %s%u%s", f->lock ? "lock " : "", f->rep == 0xF3 ? "rep " : f->rep ? "repne " : "", f->row->name,
             (unsigned)f->row->enc, f->mem ? "mem" : "reg", f->opsize * 8u, f->wide ? "" : " in 32-bit code");
}
static void each_form_of_row(const struct insn_row *row, form_fn fn, void *opaque)
{
    static const uint8_t sizes[3] = { 4, 2, 8 };
    static const char sized_names[] = " cbw cwd cdq leave enter pushf popf pusha popa ret fldenv fnstenv frstor fnsave crc32 ";
    struct form f;
    unsigned k, size, mem, wide;
    bool scales = name_in(sized_names, row->name), has_mem = false, has_rm = false, has_mem_only = false, y = false;
    for (k = 0; k < 4; k++) {
        unsigned o = row->opnd[k];
        scales |= operand_scales(o);
        y |= o == OPND_Ey || o == OPND_Gy || o == OPND_Ry || o == OPND_My;
        has_rm |= operand_is_rm(o);
        has_mem_only |= operand_is_mem_only(o);
    }
    has_mem = has_rm || has_mem_only || (row->enc & MOD_MASK) == MOD_MEM;
    for (wide = 2; wide--;) {
        if ((wide && (row->enc & MODE_MASK) == NOT64) || (!wide && (row->enc & MODE_MASK) == MODE64) || (!wide && (row->enc & W_MASK) == W1))
            continue;
        for (size = 0; size < 3; size++) {
            if (sizes[size] != 4 && !scales && !(y && sizes[size] == 8))
                continue;
            if (sizes[size] == 8 && (!wide || (row->enc & W_MASK) == W0))
                continue;
            if (sizes[size] == 2 && (row->enc & PFX_MASK) && (row->enc & PFX_MASK) != PFX_F2 && (row->enc & PFX_MASK) != PFX_F3)
                continue;
            if (wide && row->attr & ROW_DEF64 && sizes[size] == 8)
                continue; /* the same as 4: both are 64 bits there */
            for (mem = 0; mem < 2; mem++) {
                if (mem ? !has_mem || (row->enc & MOD_MASK) == MOD_REG : (has_mem_only && !has_rm) || (row->enc & MOD_MASK) == MOD_MEM)
                    continue;
                memset(&f, 0, sizeof f);
                f.row = row;
                f.opsize = sizes[size];
                f.mem = mem;
                f.wide = wide;
                f.fill = (uint8_t)form_fill(row);
                form_name(&f);
                fn(opaque, &f);
                if (row->attr & ROW_LOCK && mem) {
                    f.lock = true;
                    form_name(&f);
                    fn(opaque, &f);
                    f.lock = false;
                }
                if (row->attr & ROW_REP) {
                    f.rep = 0xF3;
                    form_name(&f);
                    fn(opaque, &f);
                    f.rep = 0xF2;
                    form_name(&f);
                    fn(opaque, &f);
                }
            }
        }
    }
}
static uint64_t form_seed(const struct form *f)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    const char *p;
    for (p = f->name; *p; p++)
        h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001B3);
    return h;
}

/* The n-th case of a form; encodings change every `per_code` cases. False: the encoding is another instruction (or not one). */
enum { CASES_PER_CODE = 16 };
static bool make_case(struct rig *m, const struct form *f, unsigned n, struct diff_case *t, struct encoded *e)
{
    struct rng code = { form_seed(f) + n / CASES_PER_CODE * UINT64_C(0x51ED2701) }, state = { form_seed(f) * 3 + n };
    struct insn i;
    t->at = 0x800 + (n / CASES_PER_CODE % 8) * 32;
    encode(&code, f, t->at, false, e);
    if (!f->wide && e->gs) /* a null selector there */
        return false;
    memset(t->code, 0, sizeof t->code);
    memcpy(t->code, e->bytes, e->length);
    t->length = e->length;
    t->wide = f->wide;
    if (e->length > 15 ||
        cpu_decode(m->c, f->wide ? KEY_CS64 | KEY_USER | KEY_PAGING | KEY_LONG | KEY_SS32 : KEY_CS32 | KEY_USER | KEY_PAGING | KEY_LONG | KEY_SS32, e->bytes, e->length, &i) ||
        i.row != f->row || i.length != e->length || (row_has_modrm(f->row) && i.memory != f->mem))
        return false;
    make_state(&state, f, e, t->at, &t->in);
    return true;
}

/* ---- results that hardware and emu may round differently: transcendental functions, one unit in the last place ---- */
static const char diff_transcendental[] = " fsin fcos fsincos fptan fpatan f2xm1 fyl2x fyl2xp1 ";
/* The forms of which something was left to the vectors. */
struct left_form {
    char name[sizeof((struct form *)0)->name];
    const char *mnemonic;
    bool has_vector;
};
static struct {
    struct left_form *forms;
    size_t count, capacity;
    unsigned long cases;
} diff_left;
#if DIFF_NATIVE
static void leave_to_vectors(const struct form *f)
{
    struct left_form *last;
    diff_left.cases++;
    if (diff_left.count && !strcmp(diff_left.forms[diff_left.count - 1].name, f->name)) /* a form's cases follow each other */
        return;
    if (diff_left.count == diff_left.capacity) {
        diff_left.capacity = diff_left.capacity ? 2 * diff_left.capacity : 64;
        diff_left.forms = realloc(diff_left.forms, diff_left.capacity * sizeof *diff_left.forms);
    }
    last = &diff_left.forms[diff_left.count++];
    memcpy(last->name, f->name, sizeof last->name);
    last->mnemonic = f->row->name;
    last->has_vector = false;
}
static bool near80(const uint8_t *a, const uint8_t *b)
{
    uint64_t x = ld64le(a), y = ld64le(b);
    unsigned ex = ld16le(a + 8), ey = ld16le(b + 8);
    if (ex == ey)
        return x - y + 1 <= 2;
    return (ex + 1 == ey && x == UINT64_MAX && y == UINT64_C(1) << 63) || (ey + 1 == ex && y == UINT64_MAX && x == UINT64_C(1) << 63);
}
/* True if the states differ by no more than that; makes them equal. */
static bool forgive_last_bit(const struct form *f, struct diff_state *got, const struct diff_state *want)
{
    unsigned k;
    if (!(f->row->attr & ROW_X87) || !name_in(diff_transcendental, f->row->name))
        return false;
    for (k = 0; k < 8; k++)
        if (near80(got->fx + 32 + 16 * k, want->fx + 32 + 16 * k))
            memcpy(got->fx + 32 + 16 * k, want->fx + 32 + 16 * k, 10);
    if ((ld16le(got->fx + 2) ^ ld16le(want->fx + 2)) == 0x200) /* C1 says which way it was rounded */
        memcpy(got->fx + 2, want->fx + 2, 2);
    return states_equal(got, want);
}


struct session {
    struct rig *m;
    struct native_runner runner;
    unsigned per_form, encodings_failed;
    const char *only;
    bool direct, run;
    struct report report;
    unsigned limit;
    FILE *vectors;
    char vendor[13];
    bool other_vendor; /* not Intel */
};
static void check_case(struct session *s, const struct form *f, const struct diff_case *t, const char *how, void (*run)(struct rig *, struct diff_case *), unsigned long *bad)
{
    struct diff_case mine = *t;
    run(s->m, &mine);
    normalise(f, t, &mine.out);
    if (s->other_vendor)
        normalise_vendor(f, t, &mine.out);
    if (states_equal(&mine.out, &t->out))
        return;
    /* A target that is not canonical and a stack that faults: hardware stores before it looks at the target, emu looks first. */
    if (!strcmp(f->row->name, "call") && mine.out.vector == EXC_GP && t->out.vector == EXC_PF && mine.out.rip == t->out.rip)
        return;
    if (forgive_last_bit(f, &mine.out, &t->out)) {
        s->report.last_bit++;
        return;
    }
    if (s->other_vendor && vendor_explains(f, t, &mine.out)) {
        leave_to_vectors(f);
        return;
    }
    (*bad)++;
    if (*bad <= s->limit)
        print_difference(f, t, &mine.out, how);
}
static void check_form(void *opaque, const struct form *f)
{
    struct session *s = opaque;
    unsigned n = 0, made = 0, k, tries = 0;
    unsigned long bad = 0, bad_run = 0;
    if (s->only && !strstr(f->name, s->only))
        return;
    while (made < s->per_form && tries < s->per_form * 4) {
        unsigned count = 0;
        while (count < NATIVE_BATCH && made < s->per_form && tries < s->per_form * 4) {
            struct encoded e;
            tries++;
            if (make_case(s->m, f, n++, &native->cases[count], &e)) {
                count++;
                made++;
            }
        }
        if (!count)
            break;
        native_run(&s->runner, count);
        for (k = 0; k < count; k++) {
            struct diff_case *t = &native->cases[k];
            if (t->out.vector == -2)
                continue;
            normalise(f, t, &t->out);
            if (s->other_vendor)
                normalise_vendor(f, t, &t->out);
            if (k == 0 || t->at != t[-1].at || memcmp(t->code, t[-1].code, t->length) || t->length != t[-1].length) {
                if (k)
                    rig_code(s->m, &t[-1], false);
                rig_code(s->m, t, true);
            }
            if (s->direct)
                check_case(s, f, t, "plain function", rig_direct, &bad);
            if (s->run)
                check_case(s, f, t, "cpu_run", rig_run, &bad_run);
        }
        rig_code(s->m, &native->cases[count - 1], false);
    }
    if (!made) {
        s->report.skipped++;
        if (diff_verbose)
            printf("no encoding: %s\n", f->name);
        return;
    }
    s->report.forms++;
    s->report.cases += made;
    s->report.differences += bad + bad_run;
    s->report.forms_different += bad || bad_run;
    if (bad || bad_run)
        printf("form %s: %lu of %u differ by plain functions, %lu by cpu_run\n", f->name, bad, made, bad_run);
}
#endif

static const struct insn_row *diff_table(unsigned n)
{
    switch (n) {
    case 0: return cpu_rows_int();
    case 1: return cpu_rows_system();
    case 2: return cpu_rows_x87();
    case 3: return cpu_rows_mmx();
    case 4: return cpu_rows_sse();
    case 5: return cpu_rows_sse4();
    case 6: return cpu_rows_crypto();
    default: return NULL;
    }
}

#if DIFF_NATIVE
/* ---- sequences: several instructions, jumps over one of them, a loop around all; for the optimised traces ---- */
static const char diff_not_in_sequences[] =
    " call ret loop loope loopne jcxz jmp div idiv enter leave popf pushf xlat movs cmps stos lods scas cmpxchg16b ldmxcsr stmxcsr maskmovdqu "
    "pcmpestrm pcmpestri aad bound rol ror lar lsl verr verw "; /* the last four: value_selector() keeps them off descriptor 15 */
enum { SEQUENCE_LENGTH = 10, SEQUENCE_POOL = 4096 };
struct sequences {
    struct form pool[SEQUENCE_POOL];
    unsigned count;
    bool wide, other_vendor;
};
static void sequence_collect(void *opaque, const struct form *f)
{
    struct sequences *p = opaque;
    unsigned k;
    for (k = 0; p->other_vendor && k < sizeof diff_vendor_flag_masks / sizeof *diff_vendor_flag_masks; k++)
        if (name_in(diff_vendor_flag_masks[k].names, f->row->name))
            return;
    for (k = 0; p->other_vendor && k < sizeof diff_vendor / sizeof *diff_vendor; k++)
        if (diff_vendor[k].kind != VENDOR_WRAP && vendor_form_differs(f, k)) /* operands and stack of sequences are far from 4 GiB */
            return;
    if (f->wide != p->wide || f->rep || f->row->attr & (ROW_X87 | ROW_MMX | ROW_REP) || name_in(diff_not_in_sequences, f->row->name))
        return;
    for (k = 0; k < 4; k++)
        if (f->row->opnd[k] == OPND_Jb || f->row->opnd[k] == OPND_Jz || f->row->opnd[k] == OPND_Ob || f->row->opnd[k] == OPND_Ov)
            return;
    if (p->count < SEQUENCE_POOL)
        p->pool[p->count++] = *f;
}
/* One instruction of the pool that touches no reserved register; integer instructions are preferred. */
static unsigned sequence_insn(struct rig *m, struct rng *r, const struct sequences *p, uint32_t at, uint8_t *out)
{
    struct encoded e;
    struct insn i;
    const struct form *f;
    bool writes_reserved;
    do {
        do
            f = &p->pool[rng_below(r, p->count)];
        while (f->row->how != HOW_INT && !rng_one_in(r, 3));
        encode(r, f, at, true, &e);
        writes_reserved = cpu_decode(m->c, f->wide ? KEY_CS64 | KEY_USER | KEY_PAGING | KEY_LONG | KEY_SS32 : KEY_CS32 | KEY_USER | KEY_PAGING | KEY_LONG | KEY_SS32,
                                     e.bytes, e.length, &i) != 0 ||
                          i.row != f->row || (row_has_modrm(f->row) && i.memory != f->mem);
        if (f->row->enc & OPREG) /* the register is in the opcode */
            writes_reserved |= e.rm == GPR_RSP || e.rm == GPR_RBP || e.rm == GPR_RBX || (e.rm >= GPR_R12 && e.rm <= GPR_R14);
        if (!e.memory && !(i.rex) && !writes_reserved) /* AH..BH: BH belongs to a pointer */
            writes_reserved |= (i.modrm & 7) == 7 || (i.modrm >> 3 & 7) == 7;
    } while (writes_reserved);
    memcpy(out, e.bytes, e.length);
    return e.length;
}
static void sequence_code(struct rig *m, struct rng *r, const struct sequences *p, struct diff_case *t)
{
    unsigned k, n = 2 + rng_below(r, SEQUENCE_LENGTH - 1), start;
    bool loop = rng_one_in(r, 2);
    memset(t->code, 0, sizeof t->code);
    t->at = 0x400 + 16 * rng_below(r, 32);
    t->wide = p->wide;
    t->length = 0;
    for (k = 0; k < n; k++) {
        if (rng_one_in(r, 3)) { /* jcc over the next one */
            start = t->length;
            t->code[start] = (uint8_t)(0x70 + rng_below(r, 16));
            t->length = start + 2;
            t->length += sequence_insn(m, r, p, t->at + t->length, t->code + t->length);
            t->code[start + 1] = (uint8_t)(t->length - start - 2);
        } else {
            t->length += sequence_insn(m, r, p, t->at + t->length, t->code + t->length);
        }
    }
    if (loop && t->wide) { /* dec r14d; jnz near back */
        static const uint8_t dec[] = { 0x41, 0xFF, 0xCE, 0x0F, 0x85 };
        memcpy(t->code + t->length, dec, 5);
        t->length += 9;
        st32le(t->code + t->length - 4, 0u - t->length);
    }
}
static void sequence_state(struct rng *r, const struct sequences *p, struct diff_case *t)
{
    struct diff_state *s = &t->in;
    struct form f = p->pool[0];
    unsigned k;
    memset(s, 0, sizeof *s);
    f.fill = (uint8_t)rng_below(r, 3);
    make_fpu_state(r, &f, s);
    if (rng_one_in(r, 2))
        for (k = 0; k < (p->wide ? 16u : 8u); k++)
            fill_bytes(r, s->fx + 160 + 16 * k, 16, f.fill);
    st32le(s->fx + 24, rng_one_in(r, 2) ? 0x1F80 : 0x1FA0);
    for (k = 0; k < 16; k++)
        s->gpr[k] = value_int(r);
    s->gpr[GPR_RBX] = BLOCK_VA + 0x200;
    s->gpr[GPR_RBP] = BLOCK_VA + 0x300;
    s->gpr[GPR_R12] = BLOCK_VA + 0x400 - (rng_one_in(r, 4) ? rng_below(r, 16) : 0);
    s->gpr[GPR_R13] = rng_below(r, 8);
    s->gpr[GPR_R14] = 1 + rng_below(r, 3);
    s->gpr[GPR_RSP] = BLOCK_VA + 0x600;
    s->flags = 0x202u | (rng_below(r, 0x1000) & 0x8D5u);
    fill_bytes(r, s->mem, BLOCK_SIZE, rng_one_in(r, 2) ? FILL_INT : f.fill);
    s->rip = CODE_VA + t->at;
    if (!p->wide)
        for (k = 0; k < 16; k++)
            s->gpr[k] = k < 8 ? (uint32_t)s->gpr[k] : 0;
}
static void sequence_print(struct rig *m, const struct diff_case *t)
{
    uint32_t at = 0;
    struct insn i;
    char text[128];
    while (at < t->length && !cpu_decode(m->c, t->wide ? KEY_CS64 | KEY_USER | KEY_PAGING | KEY_LONG : KEY_CS32 | KEY_USER | KEY_PAGING | KEY_LONG, t->code + at, 15, &i)) {
        cpu_disassemble(&i, t->in.rip + at, text, sizeof text);
        printf("    %" PRIx64 "  %s\n", t->in.rip + at, text);
        at += i.length;
    }
}
static void check_sequences(struct session *s, unsigned sequences, unsigned states, struct report *out)
{
    static struct sequences pool;
    struct form f;
    struct rng code = { 12345 };
    unsigned n, k, table, done, wide;
    const struct insn_row *row;
    memset(out, 0, sizeof *out);
    for (wide = 2; wide--;) {
        pool.count = 0;
        pool.wide = wide;
        pool.other_vendor = s->other_vendor;
        for (table = 0; diff_table(table); table++)
            for (row = diff_table(table); row->name; row++)
                if (!excluded_reason(row) && cpu_has(s->m->c, (enum cpu_feature)row->needs))
                    each_form_of_row(row, sequence_collect, &pool);
        f = pool.pool[0];
        snprintf(f.name, sizeof f.name, "sequence%s", wide ? "" : " in 32-bit code");
        for (n = 0; n < sequences / (wide ? 1 : 4); n++) {
            struct rng state = { n * UINT64_C(7919) + wide };
            bool bad = false;
            sequence_code(s->m, &code, &pool, &native->cases[0]);
            out->forms++;
            for (done = 0; done < states && !bad; done += k) {
                unsigned count = states - done < NATIVE_BATCH ? states - done : NATIVE_BATCH;
                for (k = 0; k < count; k++) {
                    if (k)
                        native->cases[k] = native->cases[0];
                    sequence_state(&state, &pool, &native->cases[k]);
                }
                native_run(&s->runner, count);
                rig_code(s->m, &native->cases[0], true);
                for (k = 0; k < count && !bad; k++) {
                    struct diff_case mine = native->cases[k];
                    rig_run(s->m, &mine);
                    normalise(&f, &mine, &mine.out);
                    normalise(&f, &mine, &native->cases[k].out);
                    out->cases++;
                    if (states_equal(&mine.out, &native->cases[k].out))
                        continue;
                    bad = true; /* the first is enough: the rest of this sequence differs alike */
                    out->differences++;
                    if (out->differences <= s->limit * 2ul) {
                        print_difference(&f, &native->cases[k], &mine.out, "cpu_run");
                        printf("  sequence %u, state %u\n", n, done + k);
                        sequence_print(s->m, &native->cases[k]);
                    }
                }
                k = count;
                rig_code(s->m, &native->cases[0], false);
            }
        }
    }
}
#endif

/* ---- vectors: a line a form: name|hash of the results of cases 0, 1, ...; -w with -n gives more of them than the stored file has ---- */
enum { VECTOR_CASES = 12 };
/* The case after n of those that go into vectors: a few take each encoding; with very many, all do. */
static unsigned vector_step(unsigned per_form) { return per_form > 4 * VECTOR_CASES ? 1 : CASES_PER_CODE / 4; }
static unsigned vector_tries(unsigned per_form) { return vector_step(per_form) * (per_form > VECTOR_CASES ? per_form : VECTOR_CASES) * CASES_PER_CODE; }
static uint32_t hash_state(const struct diff_state *s)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    const uint8_t *parts[2];
    size_t sizes[2], k, part;
    uint64_t words[21];
    uint8_t bytes[21 * 8];
    memcpy(words, s->gpr, sizeof s->gpr);
    words[16] = s->rip;
    words[17] = s->cr2;
    words[18] = s->flags;
    words[19] = s->error;
    words[20] = (uint64_t)(int64_t)s->vector;
    for (k = 0; k < 21; k++)
        st64le(bytes + 8 * k, words[k]);
    for (k = 0; k < sizeof bytes; k++)
        h = (h ^ bytes[k]) * UINT64_C(0x100000001B3);
    parts[0] = s->fx;
    sizes[0] = sizeof s->fx;
    parts[1] = s->mem;
    sizes[1] = sizeof s->mem;
    for (part = 0; part < 2; part++)
        for (k = 0; k < sizes[part]; k++)
            h = (h ^ parts[part][k]) * UINT64_C(0x100000001B3);
    return (uint32_t)(h ^ h >> 32);
}
/* Cases whose results emu may round differently are left out of the vectors. */
static bool form_in_vectors(const struct form *f) { return !((f->row->attr & ROW_X87) && name_in(diff_transcendental, f->row->name)); }

#if DIFF_NATIVE
static void write_vectors_of_form(void *opaque, const struct form *f)
{
    struct session *s = opaque;
    unsigned n = 0, made = 0, count, k;
    struct encoded e;
    if (!form_in_vectors(f))
        return;
    do {
        for (count = 0; n < vector_tries(s->per_form) && count < NATIVE_BATCH && made + count < s->per_form; n += vector_step(s->per_form))
            if (make_case(s->m, f, n, &native->cases[count], &e))
                count++;
        if (!count)
            break;
        native_run(&s->runner, count);
        if (!made)
            fprintf(s->vectors, "%s|", f->name);
        for (k = 0; k < count; k++) {
            normalise(f, &native->cases[k], &native->cases[k].out);
            fprintf(s->vectors, "%s%08x", made + k ? " " : "", (unsigned)hash_state(&native->cases[k].out));
        }
        made += count;
    } while (made < s->per_form);
    if (made)
        fprintf(s->vectors, "\n");
}

/* The host's vendor: CPUID leaf 0 as a case. */
static void read_vendor(struct session *s)
{
    static const uint8_t cpuid[] = { 0x0F, 0xA2 };
    static const int order[] = { GPR_RBX, GPR_RDX, GPR_RCX };
    struct diff_case *t = &native->cases[0];
    unsigned k;
    memset(t, 0, sizeof *t);
    memcpy(t->code, cpuid, sizeof cpuid);
    t->length = sizeof cpuid;
    t->wide = true;
    t->in.rip = CODE_VA;
    t->in.flags = 0x202;
    st16le(t->in.fx, 0x37F);
    st32le(t->in.fx + 24, 0x1F80);
    native_run(&s->runner, 1);
    for (k = 0; k < 3; k++)
        st32le((uint8_t *)s->vendor + 4 * k, (uint32_t)t->out.gpr[order[k]]);
    s->other_vendor = strcmp(s->vendor, "GenuineIntel") != 0;
}
#endif
/* One line of the forms that were left to the vectors; how many have none. */
static unsigned print_left(const char *vendor)
{
    size_t k, j;
    unsigned missing = 0;
    printf("host is %s: %lu forms (%lu results) are judged by vectors only:", vendor, (unsigned long)diff_left.count, diff_left.cases);
    for (k = 0; k < diff_left.count; k++) {
        for (j = 0; j < k && strcmp(diff_left.forms[j].mnemonic, diff_left.forms[k].mnemonic); j++)
            ;
        if (j == k)
            printf(" %s", diff_left.forms[k].mnemonic);
    }
    printf("\n");
    for (k = 0; k < diff_left.count; k++) {
        if (!diff_left.forms[k].has_vector)
            printf("no vector of %s\n", diff_left.forms[k].name);
        missing += !diff_left.forms[k].has_vector;
    }
    return missing;
}

struct replay {
    struct rig *m;
    FILE *file;
    const char *only;
    unsigned long forms, cases, differences, missing;
    unsigned per_form; /* hashes on a line, at most */
    char **lines;
    size_t line_count;
};
static int compare_lines(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static void replay_form(void *opaque, const struct form *f)
{
    struct replay *p = opaque;
    static struct diff_case t;
    struct encoded e;
    char key[80], *found = NULL, *h;
    size_t low = 0, high = p->line_count, len;
    unsigned n;
    unsigned long bad = 0;
    if (p->only && !strstr(f->name, p->only))
        return;
    snprintf(key, sizeof key, "%s|", f->name);
    len = strlen(key);
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strncmp(p->lines[mid], key, len);
        if (c == 0) {
            found = p->lines[mid];
            break;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (!found) {
        p->missing += form_in_vectors(f);
        return;
    }
    h = found + len;
    p->forms++;
    for (n = 0; n < diff_left.count; n++)
        diff_left.forms[n].has_vector |= !strcmp(diff_left.forms[n].name, f->name);
    for (n = 0; n < vector_tries(p->per_form) && *h; n += vector_step(p->per_form)) {
        unsigned long want;
        unsigned way;
        if (!make_case(p->m, f, n, &t, &e))
            continue;
        want = strtoul(h, &h, 16);
        for (way = 0; way < 2; way++) {
            rig_code(p->m, &t, true);
            if (way)
                rig_run(p->m, &t);
            else
                rig_direct(p->m, &t);
            rig_code(p->m, &t, false);
            normalise(f, &t, &t.out);
            p->cases++;
            if (hash_state(&t.out) != want) {
                if (!bad++)
                    printf("VECTOR %s: case %u by %s differs from hardware\n", f->name, n, way ? "cpu_run" : "plain functions");
            }
        }
        while (*h == ' ' || *h == '\n')
            h++;
    }
    p->differences += bad;
}
static bool replay_vectors(struct rig *m, const char *path, const char *only, struct replay *p)
{
    enum { LINE_ROOM = 1 << 16 };
    unsigned t;
    size_t capacity = 0;
    char *line;
    const struct insn_row *row;
    memset(p, 0, sizeof *p);
    p->m = m;
    p->only = only;
    p->file = fopen(path, "r");
    if (!p->file)
        return false;
    line = malloc(LINE_ROOM);
    while (line && fgets(line, LINE_ROOM, p->file)) {
        unsigned hashes = 1;
        size_t k;
        if (p->line_count == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            p->lines = realloc(p->lines, capacity * sizeof *p->lines);
        }
        p->lines[p->line_count] = malloc(strlen(line) + 1);
        strcpy(p->lines[p->line_count++], line);
        for (k = strcspn(line, "|"); line[k]; k++)
            hashes += line[k] == ' ';
        if (hashes > p->per_form)
            p->per_form = hashes;
    }
    free(line);
    fclose(p->file);
    qsort(p->lines, p->line_count, sizeof *p->lines, compare_lines);
    for (t = 0; diff_table(t); t++)
        for (row = diff_table(t); row->name; row++)
            if (!excluded_reason(row) && cpu_has(m->c, (enum cpu_feature)row->needs))
                each_form_of_row(row, replay_form, p);
    while (p->line_count)
        free(p->lines[--p->line_count]);
    free(p->lines);
    return true;
}

static void print_uncovered(struct rig *m)
{
    unsigned t, k;
    const struct insn_row *row;
    printf("not covered:\n");
    for (k = 0; k <= sizeof diff_excluded / sizeof *diff_excluded; k++) {
        const char *reason = k < sizeof diff_excluded / sizeof *diff_excluded ? diff_excluded[k].reason : diff_loads_segment, *last = "";
        printf("  %s:", reason);
        for (t = 0; diff_table(t); t++)
            for (row = diff_table(t); row->name; row++) {
                const char *why = excluded_reason(row);
                if (why && !strcmp(why, reason) && strcmp(row->name, last))
                    printf(" %s", last = row->name);
            }
        printf("\n");
    }
    printf("  not offered by this CPU model:");
    for (t = 0; diff_table(t); t++)
        for (row = diff_table(t); row->name; row++)
            if (!cpu_has(m->c, (enum cpu_feature)row->needs))
                printf(" %s", row->name);
    printf("\n");
}

/* cpu_diff [-v] [-n CASES] [-w FILE] [-r FILE] [-l LIMIT] [--direct] [--run] [NAME]; TEST_PROGRAM for tests/run.sh */
int main(int argc, char **argv)
{
    static struct rig m;
    static struct replay replay;
    const char *vectors = "tests/vectors/cpu.txt", *only = NULL, *write_to = NULL;
    unsigned per_form = getenv("LONG") ? 1000 : 64, failed = 0, passed = 0, limit = 2;
    bool direct = true, run = true, counted = false;
    char vendor[13] = "GenuineIntel";
    int k;
    for (k = 1; k < argc; k++) {
        if (!strcmp(argv[k], "-v"))
            diff_verbose = true;
        else if (!strcmp(argv[k], "-n") && k + 1 < argc)
            per_form = (unsigned)strtoul(argv[++k], NULL, 0), counted = true;
        else if (!strcmp(argv[k], "-l") && k + 1 < argc)
            limit = (unsigned)strtoul(argv[++k], NULL, 0);
        else if (!strcmp(argv[k], "-w") && k + 1 < argc)
            write_to = argv[++k];
        else if (!strcmp(argv[k], "-r") && k + 1 < argc)
            vectors = argv[++k];
        else if (!strcmp(argv[k], "--direct"))
            run = false;
        else if (!strcmp(argv[k], "--run"))
            direct = false;
        else
            only = argv[k];
    }
    rig_build(&m);
#if DIFF_NATIVE
    {
        static struct session s;
        const struct insn_row *row;
        unsigned t;
        s.m = &m;
        s.per_form = per_form;
        s.only = only;
        s.direct = direct;
        s.run = run;
        s.limit = limit;
        if (!native_start(&s.runner)) {
            printf("skip cpu_diff native: no child process\n");
        } else if (read_vendor(&s), write_to && s.other_vendor) {
            fprintf(stderr, "cpu_diff: vectors are what Intel's processors do, this is %s\n", s.vendor);
            native_stop(&s.runner);
            return 2;
        } else if (write_to) {
            s.per_form = counted ? per_form : VECTOR_CASES;
            s.vectors = fopen(write_to, "w");
            if (!s.vectors) {
                fprintf(stderr, "cpu_diff: %s: cannot be written\n", write_to);
                return 2;
            }
            for (t = 0; diff_table(t); t++)
                for (row = diff_table(t); row->name; row++)
                    if (!excluded_reason(row) && cpu_has(m.c, (enum cpu_feature)row->needs))
                        each_form_of_row(row, write_vectors_of_form, &s);
            fclose(s.vectors);
            native_stop(&s.runner);
            return 0;
        } else {
            for (t = 0; diff_table(t); t++)
                for (row = diff_table(t); row->name; row++)
                    if (!excluded_reason(row) && cpu_has(m.c, (enum cpu_feature)row->needs))
                        each_form_of_row(row, check_form, &s);
            if (!only && run) {
                struct report q;
                check_sequences(&s, getenv("LONG") ? 4000 : 300, 200, &q);
                printf("sequences: %lu of 2 to %d instructions, %lu runs, %lu differ\n", q.forms, SEQUENCE_LENGTH, q.cases, q.differences);
                passed += (unsigned)(q.forms - q.differences);
                failed += (unsigned)q.differences;
            }
            native_stop(&s.runner);
            memcpy(vendor, s.vendor, sizeof vendor);
            printf("native: %lu forms, %lu cases, %lu differences in %lu forms; %lu transcendental results differ in the last bit; %lu forms without an encoding\n",
                   s.report.forms, s.report.cases, s.report.differences, s.report.forms_different, s.report.last_bit, s.report.skipped);
            passed += (unsigned)(s.report.forms - s.report.forms_different);
            failed += (unsigned)s.report.forms_different;
        }
    }
#else
    (void)per_form, (void)counted, (void)direct, (void)run, (void)limit, (void)write_to;
    printf("skip cpu_diff native: not x86-64 Linux, or built with the address sanitizer\n");
#endif
    if (replay_vectors(&m, vectors, only, &replay)) {
        printf("vectors: %lu forms, %lu cases, %lu differences, %lu forms without a vector\n", replay.forms, replay.cases, replay.differences, replay.missing);
        passed += (unsigned)replay.forms;
        failed += replay.differences != 0;
    } else {
        printf("skip cpu_diff vectors: %s is not there\n", vectors);
    }
    if (strcmp(vendor, "GenuineIntel"))
        failed += print_left(vendor);
    if (diff_verbose || getenv("LONG"))
        print_uncovered(&m);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
