/* cpu/flags.c - arithmetic flags, kept lazily.
 *
 * Models     EFLAGS.{OF,SF,ZF,AF,PF,CF}, SDM vol. 1 §3.4.3.1.
 * Contract   Handlers and plain-C instructions store what an operation left (flags_set_*()); who needs a flag asks here. The other
 *            flags live in cpu->eflags.
 * Theory     flag_kind is a group and a size. flag_result is the result, sign-extended to 64 bits, so that SF, ZF and PF need no size.
 *            CF, OF and AF come from result and source:
 *              ADD     destination was result - source      SUB  destination was result + source (CMP, NEG: 0 - source)
 *              LOGIC   all three are 0                      INC, DEC  source holds CF; OF and AF from the result
 *              RESULT  source holds the three bits themselves, at their places (shifts, multiplications, ADC, SBB)
 *              BITS    flag_result holds all six bits (POPF, SAHF, CMC ...); no size
 * Invariants 1. flag_kind is always one of the values of enum flag_kind.
 *            2. flag_result is sign-extended from the kind's size for every kind but BITS.
 */
#include "../machine.h"
#include "cpu.h"

static unsigned flags_bits_of(unsigned kind)
{
    return 8u << (kind & 3);
}

static uint32_t flags_parity(uint64_t r)
{
    uint32_t x = (uint32_t)r & 0xFF;
    x ^= x >> 4;
    return (0x9669u >> (x & 15)) & 1 ? FLAG_PF : 0;
}

/* CF, OF and AF of the present kind; not for BITS. */
static uint32_t flags_carries(const struct cpu *c)
{
    unsigned kind = c->flag_kind;
    uint64_t r = c->flag_result, s = c->flag_source, d, mask, sign;
    uint32_t f = 0;
    sign = UINT64_C(1) << (flags_bits_of(kind) - 1);
    mask = (sign << 1) - 1;
    switch (kind & ~3u) {
    case FLAGK_ADD:
        d = r - s;
        if ((r & mask) < (s & mask))
            f |= FLAG_CF;
        if ((d ^ r) & (s ^ r) & sign)
            f |= FLAG_OF;
        return f | ((d ^ r ^ s) & FLAG_AF);
    case FLAGK_SUB:
        d = r + s;
        if ((d & mask) < (s & mask))
            f |= FLAG_CF;
        if ((d ^ s) & (d ^ r) & sign)
            f |= FLAG_OF;
        return f | ((d ^ r ^ s) & FLAG_AF);
    case FLAGK_INC:
        return (uint32_t)(s & FLAG_CF) | ((r & mask) == sign ? FLAG_OF : 0u) | ((r & 15) == 0 ? FLAG_AF : 0u);
    case FLAGK_DEC:
        return (uint32_t)(s & FLAG_CF) | ((r & mask) == sign - 1 ? FLAG_OF : 0u) | ((r & 15) == 15 ? FLAG_AF : 0u);
    case FLAGK_RESULT: return (uint32_t)s & (FLAG_CF | FLAG_OF | FLAG_AF);
    default: return 0; /* LOGIC */
    }
}

EMU_PRIV uint32_t cpu_arith_flags(const struct cpu *c)
{
    uint64_t r = c->flag_result;
    if (c->flag_kind < 4)
        return (uint32_t)r & FLAGS_ARITH;
    return flags_carries(c) | flags_parity(r) | (r == 0 ? FLAG_ZF : 0u) | (r >> 63 ? FLAG_SF : 0u);
}

EMU_PRIV void cpu_set_arith_flags(struct cpu *c, uint32_t flags)
{
    c->flag_kind = FLAGK_BITS;
    c->flag_result = flags & FLAGS_ARITH;
}

EMU_PRIV unsigned cpu_flag_carry(const struct cpu *c)
{
    return (c->flag_kind < 4 ? (uint32_t)c->flag_result : flags_carries(c)) & FLAG_CF;
}

/* Condition codes of Jcc, SETcc, CMOVcc: SDM 2A appendix B.1.4.7; bit 0 negates. */
EMU_PRIV bool cpu_condition(const struct cpu *c, unsigned cc)
{
    uint32_t f;
    bool r;
    if (c->flag_kind >= 4) {
        switch (cc >> 1) {
        case 2: return (c->flag_result == 0) ^ (cc & 1);
        case 4: return (bool)(c->flag_result >> 63) ^ (cc & 1);
        case 5: return (flags_parity(c->flag_result) != 0) ^ (cc & 1);
        default: break;
        }
    }
    f = cpu_arith_flags(c);
    switch (cc >> 1) {
    case 0: r = (f & FLAG_OF) != 0; break;
    case 1: r = (f & FLAG_CF) != 0; break;
    case 2: r = (f & FLAG_ZF) != 0; break;
    case 3: r = (f & (FLAG_CF | FLAG_ZF)) != 0; break;
    case 4: r = (f & FLAG_SF) != 0; break;
    case 5: r = (f & FLAG_PF) != 0; break;
    case 6: r = !(f & FLAG_SF) != !(f & FLAG_OF); break;
    default: r = !(f & FLAG_SF) != !(f & FLAG_OF) || (f & FLAG_ZF) != 0; break;
    }
    return r ^ (cc & 1);
}

EMU_PRIV uint32_t cpu_eflags(const struct cpu *c)
{
    return (c->eflags & ~(uint32_t)FLAGS_ARITH) | cpu_arith_flags(c) | 2u;
}

EMU_PRIV void cpu_set_eflags(struct cpu *c, uint32_t value)
{
    uint32_t changed = (c->eflags ^ value) & (FLAG_VM | FLAG_AC);
    c->eflags = (value & ~(uint32_t)FLAGS_ARITH) | 2u;
    cpu_set_arith_flags(c, value);
    if (changed)
        cpu_update_mode(c);
}
