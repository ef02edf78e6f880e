/* cpu/interp.c - every integer instruction once more, as plain C.
 *
 * Models     Integer instructions of SDM vol. 2; flags that the manual leaves undefined are as Intel's processors leave them.
 * Contract   insn_fn bodies for table.c. The trace builder takes them where it has no handler of its own: byte registers AH..BH, LOCK,
 *            16-bit forms, segments that are not flat, and all that is rare.
 * Theory     Operands are reached by their kind in the row, so that one function serves all forms of an operation.
 * Invariants 1. Reads and checks come before the first change (invariant 2 of cpu.h): a memory destination is checked for writing before
 *               it is read.
 * Missing    nothing.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

EMU_PRIV unsigned interp_size(const struct insn *i, unsigned n)
{
    switch (i->row->opnd[n]) {
    case OPND_Eb: case OPND_Gb: case OPND_Mb: case OPND_Ob: case OPND_Zb: case OPND_AL: case OPND_CL: case OPND_Xb: case OPND_Yb: case OPND_Ib: return 1;
    case OPND_Ew: case OPND_Gw: case OPND_Mw: case OPND_AX: case OPND_DX: return 2;
    case OPND_Ed: case OPND_Gd: case OPND_Md: case OPND_Rd: return 4;
    case OPND_Ey: case OPND_Gy: case OPND_My: case OPND_Ry: return i->opsize == 8 ? 8 : 4;
    case OPND_Mq: return 8;
    default: return i->opsize;
    }
}

EMU_PRIV bool interp_is_memory(const struct insn *i, unsigned n)
{
    switch (i->row->opnd[n]) {
    case OPND_Eb: case OPND_Ew: case OPND_Ev: case OPND_Ed: case OPND_Ey: case OPND_Eq: case OPND_M: case OPND_Mb: case OPND_Mw: case OPND_Md:
    case OPND_Mq: case OPND_Mv: case OPND_My: case OPND_Ob: case OPND_Ov: return i->memory;
    default: return false;
    }
}

/* Register of operand n; high: AH, CH, DH or BH. */
EMU_PRIV unsigned interp_reg(const struct insn *i, unsigned n, bool *high)
{
    unsigned r;
    *high = false;
    switch (i->row->opnd[n]) {
    case OPND_AL: case OPND_AX: case OPND_eAX: return GPR_RAX;
    case OPND_CL: return GPR_RCX;
    case OPND_DX: return GPR_RDX;
    case OPND_Gb: case OPND_Gw: case OPND_Gv: case OPND_Gd: case OPND_Gy: case OPND_Gq: r = i->reg; break;
    default: r = i->rm; break;
    }
    if (interp_size(i, n) == 1 && !i->rex && r >= 4) {
        *high = true;
        r &= 3;
    }
    return r;
}

static int interp_load(struct cpu *c, const struct insn *i, unsigned n, uint64_t *v)
{
    unsigned kind = i->row->opnd[n], size = interp_size(i, n), r;
    bool high;
    switch (kind) {
    case OPND_Ib: case OPND_Ibs: case OPND_Iw: case OPND_Iz: case OPND_Iv: case OPND_Jb: case OPND_Jz: *v = i->imm; return CPU_OK;
    case OPND_1: *v = 1; return CPU_OK;
    default: break;
    }
    if (interp_is_memory(i, n))
        return cpu_load(c, i->seg, insn_address(c, i), size, v);
    r = interp_reg(i, n, &high);
    *v = high ? cpu_get8(c, r, true) : cpu_get(c, r, size);
    return CPU_OK;
}

/* For an operand that will be written after it was read. */
static int interp_load_rmw(struct cpu *c, const struct insn *i, unsigned n, uint64_t *v)
{
    if (interp_is_memory(i, n) && cpu_check_store(c, i->seg, insn_address(c, i), interp_size(i, n)))
        return CPU_FAULT;
    return interp_load(c, i, n, v);
}

static int interp_store(struct cpu *c, const struct insn *i, unsigned n, uint64_t v)
{
    unsigned size = interp_size(i, n), r;
    bool high;
    if (interp_is_memory(i, n))
        return cpu_store(c, i->seg, insn_address(c, i), size, v);
    r = interp_reg(i, n, &high);
    if (size == 1)
        cpu_put8(c, r, high, (uint8_t)v);
    else
        cpu_put(c, r, v, size);
    return CPU_OK;
}

static unsigned interp_log2(unsigned size) { return size == 8 ? 3 : size >> 1; }
static uint64_t interp_mask(unsigned size) { return size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1; }
static void interp_flags(struct cpu *c, unsigned kind, unsigned size, uint64_t r, uint64_t s)
{
    c->flag_kind = kind | interp_log2(size);
    c->flag_result = (uint64_t)sext64(r, 8 * size);
    c->flag_source = s;
}

/* ---- two-operand arithmetic: row->op - OP_ADD is the opcode's bits 5-3 ---- */
EMU_PRIV int interp_alu(struct cpu *c, const struct insn *i)
{
    unsigned op = i->row->op, size = interp_size(i, 0);
    uint64_t d, s, r, cf, carries, top;
    if (interp_load(c, i, 1, &s) || (op == OP_CMP || op == OP_TEST ? interp_load(c, i, 0, &d) : interp_load_rmw(c, i, 0, &d)))
        return CPU_FAULT;
    s &= interp_mask(size);
    switch (op) {
    case OP_ADD: r = d + s; break;
    case OP_OR: r = d | s; break;
    case OP_AND: case OP_TEST: r = d & s; break;
    case OP_XOR: r = d ^ s; break;
    case OP_ADC: r = d + s + cpu_flag_carry(c); break;
    case OP_SBB: r = d - s - cpu_flag_carry(c); break;
    default: r = d - s; break;
    }
    if (op != OP_CMP && op != OP_TEST && interp_store(c, i, 0, r))
        return CPU_FAULT;
    top = UINT64_C(1) << (8 * size - 1);
    switch (op) {
    case OP_ADD: interp_flags(c, FLAGK_ADD, size, r, s); break;
    case OP_SUB: case OP_CMP: interp_flags(c, FLAGK_SUB, size, r, s); break;
    case OP_ADC: case OP_SBB:
        carries = op == OP_ADC ? (d & s) | ((d | s) & ~r) : (~d & s) | ((~d | s) & r);
        cf = carries & top ? FLAG_CF : 0;
        if (((d ^ r) & (op == OP_ADC ? s ^ r : d ^ s)) & top)
            cf |= FLAG_OF;
        interp_flags(c, FLAGK_RESULT, size, r, cf | ((d ^ s ^ r) & FLAG_AF));
        break;
    default: interp_flags(c, FLAGK_LOGIC, size, r, 0); break;
    }
    return CPU_OK;
}

EMU_PRIV int interp_unary(struct cpu *c, const struct insn *i)
{
    unsigned size = interp_size(i, 0);
    uint64_t d, r;
    unsigned cf = cpu_flag_carry(c);
    if (interp_load_rmw(c, i, 0, &d))
        return CPU_FAULT;
    switch (i->row->op) {
    case OP_INC: r = d + 1; break;
    case OP_DEC: r = d - 1; break;
    case OP_NEG: r = 0 - d; break;
    default: r = ~d; break;
    }
    if (interp_store(c, i, 0, r))
        return CPU_FAULT;
    switch (i->row->op) {
    case OP_INC: interp_flags(c, FLAGK_INC, size, r, cf); break;
    case OP_DEC: interp_flags(c, FLAGK_DEC, size, r, cf); break;
    case OP_NEG: interp_flags(c, FLAGK_SUB, size, r, d); break;
    default: break;
    }
    return CPU_OK;
}

/* ---- shifts and rotates ---- */
/* One shift of d (zero-extended from `size` bytes) by n (already masked to 5 or 6 bits, not 0): result, and CF and OF in *cfof. For
 * counts over 1 Intel's processors compute OF as if the count were 1 (seen on Sapphire Rapids, tests/cpu_diff.c). */
EMU_PRIV uint64_t interp_shift_value(unsigned op, unsigned size, uint64_t d, unsigned n, unsigned carry_in, uint32_t *cfof)
{
    unsigned bits = 8 * size, k;
    uint64_t mask = interp_mask(size), r, top = UINT64_C(1) << (bits - 1);
    bool cf, of, d_top = (d & top) != 0, d_next = (d & (top >> 1)) != 0;
    switch (op) {
    case OP_ROL:
        k = n % bits;
        r = k ? ((d << k) | (d >> (bits - k))) & mask : d;
        cf = r & 1;
        of = d_top != d_next;
        break;
    case OP_ROR:
        k = n % bits;
        r = k ? ((d >> k) | (d << (bits - k))) & mask : d;
        cf = (r & top) != 0;
        of = d_top != (bool)(d & 1);
        break;
    case OP_RCL: case OP_RCR:
        r = d;
        cf = carry_in != 0;
        of = op == OP_RCL ? d_top != d_next : d_top != cf;
        for (k = n % (bits + 1); k; k--) {
            bool out = op == OP_RCL ? (r & top) != 0 : (r & 1) != 0;
            r = op == OP_RCL ? ((r << 1) | cf) & mask : (r >> 1) | (cf ? top : 0);
            cf = out;
        }
        break;
    case OP_SHL:
        r = (d << n) & mask;
        cf = n <= bits && (d >> (bits - n)) & 1;
        of = d_top != d_next;
        break;
    case OP_SHR:
        r = d >> n;
        cf = (d >> (n - 1)) & 1;
        of = d_top;
        break;
    default: /* SAR */
        r = sar64((uint64_t)sext64(d, bits), n) & mask;
        cf = sar64((uint64_t)sext64(d, bits), n - 1) & 1;
        of = false;
        break;
    }
    *cfof = (cf ? FLAG_CF : 0u) | (of ? FLAG_OF : 0u);
    return r;
}

EMU_PRIV int interp_shift(struct cpu *c, const struct insn *i)
{
    unsigned op = i->row->op, size = interp_size(i, 0), n;
    uint64_t d, s, r;
    uint32_t cfof;
    if (interp_load(c, i, 1, &s) || interp_load_rmw(c, i, 0, &d))
        return CPU_FAULT;
    n = (unsigned)s & (size == 8 ? 63 : 31);
    if (n == 0 || ((op == OP_RCL || op == OP_RCR) && n % (8 * size + 1) == 0)) /* no flag changes; a 32-bit register is still written */
        return interp_store(c, i, 0, d);
    r = interp_shift_value(op, size, d, n, cpu_flag_carry(c), &cfof);
    if (interp_store(c, i, 0, r))
        return CPU_FAULT;
    if (op == OP_SHL || op == OP_SHR || op == OP_SAR)
        interp_flags(c, FLAGK_RESULT, size, r, cfof);
    else
        cpu_set_arith_flags(c, (cpu_arith_flags(c) & ~(uint32_t)(FLAG_CF | FLAG_OF)) | cfof);
    return CPU_OK;
}

EMU_PRIV int interp_shift_double(struct cpu *c, const struct insn *i)
{
    unsigned size = interp_size(i, 0), bits = 8 * size, n;
    uint64_t d, s, count, r, mask = interp_mask(size), top = UINT64_C(1) << (bits - 1);
    bool left = i->row->op == OP_SHLD, cf, of; /* OF as if the count were 1 */
    if (interp_load(c, i, 1, &s) || interp_load(c, i, 2, &count) || interp_load_rmw(c, i, 0, &d))
        return CPU_FAULT;
    n = (unsigned)count & (size == 8 ? 63 : 31);
    if (n == 0)
        return interp_store(c, i, 0, d);
    d &= mask;
    s &= mask;
    of = left ? ((d & top) != 0) != ((d & (top >> 1)) != 0) : (s & 1) != ((d & top) != 0);
    if (n <= bits) {
        if (left) {
            r = n == bits ? s : (d << n) | (s >> (bits - n));
            cf = (d >> (bits - n)) & 1;
        } else {
            r = n == bits ? s : (d >> n) | (s << (bits - n));
            cf = (d >> (n - 1)) & 1;
        }
    } else { /* 16 bits by 17 to 31: d:s:d goes round (Intel) */
        n -= bits;
        if (left) {
            r = (s << n) | (d >> (bits - n));
            cf = (s >> (bits - n)) & 1;
        } else {
            r = (s >> n) | (d << (bits - n));
            cf = (s >> (n - 1)) & 1;
        }
    }
    r &= mask;
    if (interp_store(c, i, 0, r))
        return CPU_FAULT;
    interp_flags(c, FLAGK_RESULT, size, r, (cf ? FLAG_CF : 0u) | (of ? FLAG_OF : 0u));
    return CPU_OK;
}

/* ---- moves ---- */
EMU_PRIV int interp_mov(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    return interp_load(c, i, 1, &v) || interp_store(c, i, 0, v);
}
EMU_PRIV int interp_movsx(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    return interp_load(c, i, 1, &v) || interp_store(c, i, 0, (uint64_t)sext64(v, 8 * interp_size(i, 1)));
}
EMU_PRIV int interp_lea(struct cpu *c, const struct insn *i)
{
    return interp_store(c, i, 0, insn_address(c, i));
}
EMU_PRIV int interp_xchg(struct cpu *c, const struct insn *i)
{
    uint64_t a, b;
    if (i->opcode == 0x90 && i->rm == GPR_RAX)
        return CPU_OK; /* NOP: the upper half of RAX stays */
    return interp_load_rmw(c, i, 0, &a) || interp_load(c, i, 1, &b) || interp_store(c, i, 0, b) || interp_store(c, i, 1, a);
}
EMU_PRIV int interp_cmov(struct cpu *c, const struct insn *i)
{
    uint64_t s, d;
    if (interp_load(c, i, 1, &s) || interp_load(c, i, 0, &d))
        return CPU_FAULT;
    return interp_store(c, i, 0, cpu_condition(c, i->opcode & 15) ? s : d);
}
EMU_PRIV int interp_setcc(struct cpu *c, const struct insn *i)
{
    return interp_store(c, i, 0, cpu_condition(c, i->opcode & 15));
}
EMU_PRIV int interp_bswap(struct cpu *c, const struct insn *i)
{
    uint64_t v = c->gpr[i->rm];
    if (i->opsize == 2) /* undefined; Intel's processors clear the word */
        cpu_put16(c, i->rm, 0);
    else
        c->gpr[i->rm] = i->opsize == 4 ? bswap32((uint32_t)v) : bswap64(v);
    return CPU_OK;
}
EMU_PRIV int interp_movbe(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    if (interp_load(c, i, 1, &v))
        return CPU_FAULT;
    v = i->opsize == 2 ? bswap16((uint16_t)v) : i->opsize == 4 ? bswap32((uint32_t)v) : bswap64(v);
    return interp_store(c, i, 0, v);
}
EMU_PRIV int interp_cbw(struct cpu *c, const struct insn *i) /* CBW CWDE CDQE */
{
    cpu_put(c, GPR_RAX, (uint64_t)sext64(c->gpr[GPR_RAX], 4u * i->opsize), i->opsize);
    return CPU_OK;
}
EMU_PRIV int interp_cwd(struct cpu *c, const struct insn *i) /* CWD CDQ CQO */
{
    cpu_put(c, GPR_RDX, sext64(c->gpr[GPR_RAX], 8u * i->opsize) < 0 ? UINT64_MAX : 0, i->opsize);
    return CPU_OK;
}
EMU_PRIV int interp_nop(struct cpu *c, const struct insn *i)
{
    (void)c;
    (void)i;
    return CPU_OK;
}
EMU_PRIV int interp_lahf(struct cpu *c, const struct insn *i)
{
    (void)i;
    cpu_put8(c, GPR_RAX, true, (uint8_t)((cpu_arith_flags(c) & 0xFF) | 2));
    return CPU_OK;
}
EMU_PRIV int interp_sahf(struct cpu *c, const struct insn *i)
{
    (void)i;
    cpu_set_arith_flags(c, (cpu_arith_flags(c) & FLAG_OF) | (cpu_get8(c, GPR_RAX, true) & (FLAGS_ARITH & 0xFF)));
    return CPU_OK;
}
EMU_PRIV int interp_carry(struct cpu *c, const struct insn *i) /* CLC STC CMC */
{
    uint32_t f = cpu_arith_flags(c);
    cpu_set_arith_flags(c, i->opcode == 0xF8 ? f & ~(uint32_t)FLAG_CF : i->opcode == 0xF9 ? f | FLAG_CF : f ^ FLAG_CF);
    return CPU_OK;
}
EMU_PRIV int interp_direction(struct cpu *c, const struct insn *i) /* CLD STD */
{
    c->eflags = i->opcode == 0xFC ? c->eflags & ~(uint32_t)FLAG_DF : c->eflags | FLAG_DF;
    return CPU_OK;
}

/* ---- multiplication and division ---- */
static void interp_flags_mul(struct cpu *c, unsigned size, uint64_t low, bool over)
{
    interp_flags(c, FLAGK_RESULT, size, low, over ? FLAG_CF | FLAG_OF : 0u);
    c->flag_result |= FLAG_RESULT_NOT_ZERO;
}
EMU_PRIV int interp_mul(struct cpu *c, const struct insn *i) /* MUL, IMUL r/m */
{
    unsigned size = interp_size(i, 0), bits = 8 * size;
    bool is_signed = i->row->op == OP_IMUL1, over;
    uint64_t s, lo, hi, a = c->gpr[GPR_RAX];
    if (interp_load(c, i, 0, &s))
        return CPU_FAULT;
    if (size == 8) {
        lo = is_signed ? muls64(a, s, &hi) : mul64(a, s, &hi);
        over = is_signed ? hi != sar64(lo, 63) : hi != 0;
        c->gpr[GPR_RAX] = lo;
        c->gpr[GPR_RDX] = hi;
    } else {
        uint64_t p = is_signed ? (uint64_t)sext64(a, bits) * (uint64_t)sext64(s, bits) : (a & interp_mask(size)) * s;
        lo = p & interp_mask(size);
        hi = (p >> bits) & interp_mask(size);
        over = is_signed ? p != (uint64_t)sext64(lo, bits) : hi != 0;
        if (size == 1) {
            cpu_put16(c, GPR_RAX, (uint16_t)p);
        } else {
            cpu_put(c, GPR_RAX, lo, size);
            cpu_put(c, GPR_RDX, hi, size);
        }
    }
    interp_flags_mul(c, size, lo, over);
    return CPU_OK;
}
EMU_PRIV int interp_imul(struct cpu *c, const struct insn *i) /* two and three operands */
{
    unsigned size = i->opsize, bits = 8 * size;
    uint64_t a, b, lo, hi;
    bool over;
    if (interp_load(c, i, 1, &a) || interp_load(c, i, i->row->opnd[2] ? 2 : 0, &b))
        return CPU_FAULT;
    if (size == 8) {
        lo = muls64(a, b, &hi);
        over = hi != sar64(lo, 63);
    } else {
        lo = (uint64_t)sext64(a, bits) * (uint64_t)sext64(b, bits);
        over = lo != (uint64_t)sext64(lo, bits);
    }
    cpu_put(c, i->reg, lo, size);
    interp_flags_mul(c, size, lo, over);
    return CPU_OK;
}
/* Quotient of high:low by s, `size` bytes each; false: #DE. */
EMU_PRIV bool interp_divide(unsigned size, bool is_signed, uint64_t hi, uint64_t lo, uint64_t s, uint64_t *q, uint64_t *r)
{
    unsigned bits = 8 * size;
    uint64_t mask = interp_mask(size), top = UINT64_C(1) << (bits - 1);
    bool neg_n, neg_d;
    if (s == 0)
        return false;
    if (!is_signed) {
        if (hi >= s)
            return false;
        if (size == 8) {
            *q = div128(hi, lo, s, r);
        } else {
            uint64_t n = (hi << bits) | lo;
            *q = n / s;
            *r = n % s;
        }
        return true;
    }
    neg_n = (hi & top) != 0;
    neg_d = (s & top) != 0;
    if (neg_n) {
        lo = (0 - lo) & mask;
        hi = (~hi + (lo == 0)) & mask;
    }
    if (neg_d)
        s = (0 - s) & mask;
    if (hi >= s || !interp_divide(size, false, hi, lo, s, q, r))
        return false;
    if (neg_n != neg_d ? *q > top : *q >= top)
        return false;
    if (neg_n != neg_d)
        *q = 0 - *q;
    if (neg_n)
        *r = 0 - *r;
    return true;
}
EMU_PRIV int interp_div(struct cpu *c, const struct insn *i)
{
    unsigned size = interp_size(i, 0);
    uint64_t s, q = 0, r = 0, hi, lo;
    if (interp_load(c, i, 0, &s))
        return CPU_FAULT;
    lo = c->gpr[GPR_RAX] & interp_mask(size);
    hi = size == 1 ? cpu_get8(c, GPR_RAX, true) : c->gpr[GPR_RDX] & interp_mask(size);
    if (!interp_divide(size, i->row->op == OP_IDIV, hi, lo, s, &q, &r))
        return cpu_raise(c, EXC_DE);
    if (size == 1) {
        cpu_put16(c, GPR_RAX, (uint16_t)((q & 0xFF) | (r & 0xFF) << 8));
    } else {
        cpu_put(c, GPR_RAX, q, size);
        cpu_put(c, GPR_RDX, r, size);
    }
    return CPU_OK; /* flags undefined: Intel's processors leave them */
}

/* ---- bits ---- */
EMU_PRIV int interp_bit_test(struct cpu *c, const struct insn *i)
{
    unsigned op = i->row->op, size = i->opsize, bits = 8 * size;
    uint64_t n, d, bit, r, address = 0;
    bool memory = i->memory;
    if (interp_load(c, i, 1, &n))
        return CPU_FAULT;
    if (memory) {
        address = insn_address(c, i);
        if (i->row->opnd[1] == OPND_Gv) { /* the bit offset reaches beyond the operand */
            uint64_t offset = sar64((uint64_t)sext64(n, bits), size == 8 ? 6 : size == 4 ? 5 : 4) * size;
            address += offset;
            address = i->addrsize == 8 ? address : i->addrsize == 4 ? (uint32_t)address : (uint16_t)address;
        }
        if (op != OP_BT && cpu_check_store(c, i->seg, address, size))
            return CPU_FAULT;
        if (cpu_load(c, i->seg, address, size, &d))
            return CPU_FAULT;
    } else {
        d = cpu_get(c, i->rm, size);
    }
    bit = UINT64_C(1) << (n & (bits - 1));
    r = op == OP_BTS ? d | bit : op == OP_BTR ? d & ~bit : d ^ bit;
    if (op != OP_BT) {
        if (memory) {
            if (cpu_store(c, i->seg, address, size, r))
                return CPU_FAULT;
        } else {
            cpu_put(c, i->rm, r, size);
        }
    }
    cpu_set_arith_flags(c, (cpu_arith_flags(c) & ~(uint32_t)FLAG_CF) | (d & bit ? FLAG_CF : 0u)); /* the rest stays */
    return CPU_OK;
}
EMU_PRIV int interp_bit_scan(struct cpu *c, const struct insn *i)
{
    unsigned size = i->opsize, bits = 8 * size;
    uint64_t s, r;
    if (interp_load(c, i, 1, &s))
        return CPU_FAULT;
    switch (i->row->op) {
    case OP_BSF: case OP_BSR:
        /* Intel: all flags of the result but ZF, which is of the source; a zero source leaves the destination, upper half too. */
        if (s == 0) {
            interp_flags(c, FLAGK_LOGIC, size, 0, 0);
            return CPU_OK;
        }
        r = i->row->op == OP_BSF ? ctz64(s) : 63 - clz64(s);
        cpu_put(c, i->reg, r, size);
        interp_flags(c, FLAGK_LOGIC, size, r, 0);
        c->flag_result |= FLAG_RESULT_NOT_ZERO;
        return CPU_OK;
    case OP_TZCNT: r = s ? ctz64(s) : bits; break;
    case OP_LZCNT: r = s ? clz64(s) - (64 - bits) : bits; break;
    default: /* POPCNT */
        r = popcount64(s);
        cpu_put(c, i->reg, r, size);
        cpu_set_arith_flags(c, s == 0 ? FLAG_ZF : 0u);
        return CPU_OK;
    }
    cpu_put(c, i->reg, r, size);
    cpu_set_arith_flags(c, (s == 0 ? FLAG_CF : 0u) | (r == 0 ? FLAG_ZF : 0u));
    return CPU_OK;
}
EMU_PRIV int interp_adx(struct cpu *c, const struct insn *i) /* ADCX, ADOX */
{
    unsigned size = i->opsize == 8 ? 8 : 4;
    uint32_t bit = i->row->op == OP_ADCX ? FLAG_CF : FLAG_OF, f = cpu_arith_flags(c);
    uint64_t s, d = cpu_get(c, i->reg, size), r, carries;
    if (interp_load(c, i, 1, &s))
        return CPU_FAULT;
    r = d + s + (f & bit ? 1 : 0);
    carries = (d & s) | ((d | s) & ~r);
    cpu_put(c, i->reg, r, size);
    cpu_set_arith_flags(c, (f & ~bit) | ((carries >> (8 * size - 1)) & 1 ? bit : 0u));
    return CPU_OK;
}

/* ---- exchanges that LOCK makes atomic: there is one thread ---- */
EMU_PRIV int interp_xadd(struct cpu *c, const struct insn *i)
{
    unsigned size = interp_size(i, 0);
    uint64_t d, s, r;
    if (interp_load(c, i, 1, &s) || interp_load_rmw(c, i, 0, &d))
        return CPU_FAULT;
    r = d + s;
    if (interp_is_memory(i, 0)) {
        if (interp_store(c, i, 0, r) || interp_store(c, i, 1, d))
            return CPU_FAULT;
    } else if (interp_store(c, i, 1, d) || interp_store(c, i, 0, r)) { /* XADD r, r: the sum stays */
        return CPU_FAULT;
    }
    interp_flags(c, FLAGK_ADD, size, r, s);
    return CPU_OK;
}
EMU_PRIV int interp_cmpxchg(struct cpu *c, const struct insn *i)
{
    unsigned size = interp_size(i, 0);
    uint64_t d, s, a = c->gpr[GPR_RAX] & interp_mask(size);
    if (interp_load(c, i, 1, &s) || interp_load_rmw(c, i, 0, &d))
        return CPU_FAULT;
    if (a == d) {
        if (interp_store(c, i, 0, s))
            return CPU_FAULT;
    } else {
        if (interp_is_memory(i, 0) && interp_store(c, i, 0, d)) /* the write cycle always happens */
            return CPU_FAULT;
        if (size == 1)
            cpu_put8(c, GPR_RAX, false, (uint8_t)d);
        else
            cpu_put(c, GPR_RAX, d, size);
    }
    interp_flags(c, FLAGK_SUB, size, a - d, d);
    return CPU_OK;
}
EMU_PRIV int interp_cmpxchg8b(struct cpu *c, const struct insn *i)
{
    unsigned half = i->opsize == 8 ? 8 : 4;
    uint64_t address = insn_address(c, i), lo, hi, mask = interp_mask(half);
    uint8_t bytes[16];
    bool equal;
    if (half == 8 && ((c->seg_base[i->seg] + address) & 15))
        return cpu_raise_error(c, EXC_GP, 0);
    if (cpu_check_store(c, i->seg, address, 2 * half) || cpu_load_bytes(c, i->seg, address, bytes, 2 * half))
        return CPU_FAULT;
    lo = ldn_le(bytes, half);
    hi = ldn_le(bytes + half, half);
    equal = lo == (c->gpr[GPR_RAX] & mask) && hi == (c->gpr[GPR_RDX] & mask);
    if (equal) {
        stn_le(bytes, c->gpr[GPR_RBX], half);
        stn_le(bytes + half, c->gpr[GPR_RCX], half);
    }
    if (cpu_store_bytes(c, i->seg, address, bytes, 2 * half))
        return CPU_FAULT;
    if (!equal) {
        cpu_put(c, GPR_RAX, lo, half);
        cpu_put(c, GPR_RDX, hi, half);
    }
    cpu_set_arith_flags(c, (cpu_arith_flags(c) & ~(uint32_t)FLAG_ZF) | (equal ? FLAG_ZF : 0u));
    return CPU_OK;
}

/* ---- control flow; next_rip is where the instruction goes ---- */
/* Sets next_rip for a near transfer; #GP(0) if it lies outside the limit or is not canonical. */
EMU_PRIV int interp_go(struct cpu *c, uint64_t target, unsigned opsize)
{
    if (opsize == 2)
        target &= 0xFFFF;
    else if (c->code_size != 8)
        target &= 0xFFFFFFFFu;
    if (c->code_size == 8 ? !cpu_canonical(c, target) : target > c->seg[SEG_CS].limit)
        return cpu_raise_error(c, EXC_GP, 0);
    c->next_rip = target;
    return CPU_OK;
}
EMU_PRIV int interp_jcc(struct cpu *c, const struct insn *i)
{
    return cpu_condition(c, i->opcode & 15) ? interp_go(c, c->next_rip + i->imm, i->opsize) : CPU_OK;
}
EMU_PRIV int interp_loop(struct cpu *c, const struct insn *i) /* LOOPNE LOOPE LOOP JCXZ */
{
    uint64_t n = cpu_get(c, GPR_RCX, i->addrsize);
    bool jump;
    if (i->opcode == 0xE3) {
        jump = n == 0;
    } else {
        n--;
        jump = (n & interp_mask(i->addrsize)) != 0;
        if (i->opcode != 0xE2)
            jump = jump && ((cpu_arith_flags(c) & FLAG_ZF) != 0) == (i->opcode == 0xE1);
    }
    if (jump && interp_go(c, c->next_rip + i->imm, i->opsize))
        return CPU_FAULT;
    if (i->opcode != 0xE3)
        cpu_put(c, GPR_RCX, n, i->addrsize);
    return CPU_OK;
}
EMU_PRIV int interp_jmp(struct cpu *c, const struct insn *i)
{
    return interp_go(c, c->next_rip + i->imm, i->opsize);
}
EMU_PRIV int interp_jmp_rm(struct cpu *c, const struct insn *i)
{
    uint64_t t;
    return interp_load(c, i, 0, &t) || interp_go(c, t, i->opsize);
}
EMU_PRIV int interp_call(struct cpu *c, const struct insn *i)
{
    uint64_t back = c->next_rip;
    if (interp_go(c, back + i->imm, i->opsize))
        return CPU_FAULT;
    return cpu_push(c, back, i->opsize);
}
EMU_PRIV int interp_call_rm(struct cpu *c, const struct insn *i)
{
    uint64_t t, back = c->next_rip;
    if (interp_load(c, i, 0, &t) || interp_go(c, t, i->opsize))
        return CPU_FAULT;
    return cpu_push(c, back, i->opsize);
}
EMU_PRIV int interp_ret(struct cpu *c, const struct insn *i)
{
    uint64_t t, sp = c->gpr[GPR_RSP];
    if (cpu_pop(c, &t, i->opsize))
        return CPU_FAULT;
    if (interp_go(c, t, i->opsize)) {
        c->gpr[GPR_RSP] = sp;
        return CPU_FAULT;
    }
    if (i->row->opnd[0] == OPND_Iw)
        cpu_put(c, GPR_RSP, c->gpr[GPR_RSP] + i->imm, c->code_size == 8 ? 8 : c->seg[SEG_SS].attr & SEG_DB ? 4 : 2);
    return CPU_OK;
}
static unsigned interp_stack_size(const struct cpu *c)
{
    return c->code_size == 8 ? 8 : c->seg[SEG_SS].attr & SEG_DB ? 4 : 2;
}
EMU_PRIV int interp_push(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    return interp_load(c, i, 0, &v) || cpu_push(c, v, i->opsize);
}
EMU_PRIV int interp_pop(struct cpu *c, const struct insn *i)
{
    uint64_t v, sp = c->gpr[GPR_RSP];
    if (cpu_pop(c, &v, i->opsize))
        return CPU_FAULT;
    if (!interp_is_memory(i, 0)) {
        cpu_put(c, i->rm, v, i->opsize);
        return CPU_OK;
    }
    /* The address of POP [esp + n] uses ESP after the increment; a fault must find it unchanged. */
    if (cpu_store(c, i->seg, insn_address(c, i), i->opsize, v)) {
        c->gpr[GPR_RSP] = sp;
        return CPU_FAULT;
    }
    return CPU_OK;
}
EMU_PRIV int interp_leave(struct cpu *c, const struct insn *i)
{
    uint64_t v, sp = c->gpr[GPR_RSP];
    cpu_put(c, GPR_RSP, c->gpr[GPR_RBP], interp_stack_size(c));
    if (cpu_pop(c, &v, i->opsize)) {
        c->gpr[GPR_RSP] = sp;
        return CPU_FAULT;
    }
    cpu_put(c, GPR_RBP, v, i->opsize);
    return CPU_OK;
}
