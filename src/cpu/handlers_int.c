/* cpu/handlers_int.c - handlers of integer operations between registers.
 *
 * Models     Integer instructions of SDM vol. 2 with register and immediate operands, 8, 32 and 64 bits wide.
 * Contract   The trace builder asks handler_*() for the handler of an operation, size and operand kinds. Each operation comes twice:
 *            _n leaves the flags alone (nobody will read them), _f records them (flags.c).
 * Theory     See uop.h. The macros below loop over operand kinds; a line of them is an instruction.
 * Invariants 1. 32-bit results clear the upper half of the destination; 8-bit results leave the rest of it.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

/* ---- d = d op s; d op immediate ---- */
#define DEF_ALU_RR(kb, ka, op, sz)                                                                                     \
    UOP_FN(uop_##op##sz##n_rr_##ka##kb)                                                                                \
    {                                                                                                                  \
        UTYPE_##sz r = (UTYPE_##sz)EXPR_##op(GETS(ka, a, sz), GETS(kb, b, sz));                                        \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##f_rr_##ka##kb)                                                                                \
    {                                                                                                                  \
        UTYPE_##sz s = GETS(kb, b, sz), r = (UTYPE_##sz)EXPR_##op(GETS(ka, a, sz), s);                                 \
        PUTS_##sz(ka, a, r);                                                                                           \
        SETF(KIND_##op, sz, r, s);                                                                                     \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_ALU_RI(ka, op, sz)                                                                                         \
    UOP_FN(uop_##op##sz##n_ri_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz r = (UTYPE_##sz)EXPR_##op(GETS(ka, a, sz), (UTYPE_##sz)UOP_IMM);                                    \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##f_ri_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz s = (UTYPE_##sz)UOP_IMM, r = (UTYPE_##sz)EXPR_##op(GETS(ka, a, sz), s);                             \
        PUTS_##sz(ka, a, r);                                                                                           \
        SETF(KIND_##op, sz, r, s);                                                                                     \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_CMP_RR(kb, ka, op, e, kind, sz)                                                                            \
    UOP_FN(uop_##op##sz##_rr_##ka##kb)                                                                                 \
    {                                                                                                                  \
        UTYPE_##sz s = GETS(kb, b, sz), r = (UTYPE_##sz)EXPR_##e(GETS(ka, a, sz), s);                                  \
        SETF(kind, sz, r, s);                                                                                          \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_CMP_RI(ka, op, e, kind, sz)                                                                                \
    UOP_FN(uop_##op##sz##_ri_##ka)                                                                                     \
    {                                                                                                                  \
        UTYPE_##sz s = (UTYPE_##sz)UOP_IMM, r = (UTYPE_##sz)EXPR_##e(GETS(ka, a, sz), s);                              \
        SETF(kind, sz, r, s);                                                                                          \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_ALU(op) \
    DEF_ALU_RR(R, R, op, 1) DEF_ALU_RR(R, R, op, 2) EACH_KIND2(DEF_ALU_RR, op, 4) EACH_KIND2(DEF_ALU_RR, op, 8) \
    EACH_KIND(DEF_ALU_RI, op, 1) EACH_KIND(DEF_ALU_RI, op, 2) EACH_KIND(DEF_ALU_RI, op, 4) EACH_KIND(DEF_ALU_RI, op, 8)
#define DEF_CMP(op, e, kind) \
    EACH_KIND2(DEF_CMP_RR, op, e, kind, 1) EACH_KIND2(DEF_CMP_RR, op, e, kind, 2) EACH_KIND2(DEF_CMP_RR, op, e, kind, 4) EACH_KIND2(DEF_CMP_RR, op, e, kind, 8) \
    EACH_KIND(DEF_CMP_RI, op, e, kind, 1) EACH_KIND(DEF_CMP_RI, op, e, kind, 2) EACH_KIND(DEF_CMP_RI, op, e, kind, 4) EACH_KIND(DEF_CMP_RI, op, e, kind, 8)
DEF_ALU(add)
DEF_ALU(or)
DEF_ALU(and)
DEF_ALU(sub)
DEF_ALU(xor)
DEF_CMP(cmp, sub, FLAGK_SUB)
DEF_CMP(test, and, FLAGK_LOGIC)

#define TAB_ALU_RR(op) \
    { { TAB_RR(uop_##op##4n_rr), TAB_RR(uop_##op##4f_rr) }, { TAB_RR(uop_##op##8n_rr), TAB_RR(uop_##op##8f_rr) } }
#define TAB_ALU_CELLS(op) { { uop_##op##1n_rr_RR, uop_##op##1f_rr_RR }, { uop_##op##2n_rr_RR, uop_##op##2f_rr_RR } }
#define TAB_ALU_RI(op) \
    { { TAB_RI(uop_##op##1n_ri), TAB_RI(uop_##op##1f_ri) }, { TAB_RI(uop_##op##2n_ri), TAB_RI(uop_##op##2f_ri) }, { TAB_RI(uop_##op##4n_ri), TAB_RI(uop_##op##4f_ri) }, { TAB_RI(uop_##op##8n_ri), TAB_RI(uop_##op##8f_ri) } }

static int handler_alu_index(unsigned op) /* ORDER the tables below */
{
    switch (op) {
    case OP_ADD: return 0;
    case OP_OR: return 1;
    case OP_AND: return 2;
    case OP_SUB: return 3;
    case OP_XOR: return 4;
    default: return -1;
    }
}
static int handler_size_index(unsigned size) { return size == 8 ? 3 : (int)size >> 1; }

EMU_PRIV uop_fn handler_alu_rr(unsigned op, unsigned size, bool flags, unsigned ka, unsigned kb)
{
    static const uop_table_rr alu[5][2][2] = { TAB_ALU_RR(add), TAB_ALU_RR(or), TAB_ALU_RR(and), TAB_ALU_RR(sub), TAB_ALU_RR(xor) };
    static const uop_fn cells[5][2][2] = { TAB_ALU_CELLS(add), TAB_ALU_CELLS(or), TAB_ALU_CELLS(and), TAB_ALU_CELLS(sub), TAB_ALU_CELLS(xor) };
    static const uop_table_rr cmp[2][4] = {
        { TAB_RR(uop_cmp1_rr), TAB_RR(uop_cmp2_rr), TAB_RR(uop_cmp4_rr), TAB_RR(uop_cmp8_rr) },
        { TAB_RR(uop_test1_rr), TAB_RR(uop_test2_rr), TAB_RR(uop_test4_rr), TAB_RR(uop_test8_rr) }
    };
    int o = handler_alu_index(op);
    if (op == OP_CMP || op == OP_TEST)
        return cmp[op == OP_TEST][size == 8 ? 3 : size >> 1][ka * UOP_KINDS + kb];
    if (o < 0)
        return NULL;
    return size < 4 ? cells[o][size == 2][flags] : alu[o][size == 8][flags][ka * UOP_KINDS + kb];
}
EMU_PRIV uop_fn handler_alu_ri(unsigned op, unsigned size, bool flags, unsigned ka)
{
    static const uop_table_ri alu[5][4][2] = { TAB_ALU_RI(add), TAB_ALU_RI(or), TAB_ALU_RI(and), TAB_ALU_RI(sub), TAB_ALU_RI(xor) };
    static const uop_table_ri cmp[2][4] = {
        { TAB_RI(uop_cmp1_ri), TAB_RI(uop_cmp2_ri), TAB_RI(uop_cmp4_ri), TAB_RI(uop_cmp8_ri) },
        { TAB_RI(uop_test1_ri), TAB_RI(uop_test2_ri), TAB_RI(uop_test4_ri), TAB_RI(uop_test8_ri) }
    };
    int o = handler_alu_index(op), s = handler_size_index(size);
    if (op == OP_CMP || op == OP_TEST)
        return cmp[op == OP_TEST][size == 8 ? 3 : size >> 1][ka];
    return o < 0 || s < 0 ? NULL : alu[o][s][flags][ka];
}

/* AND, OR, XOR of AH..BH and an immediate */
#define DEF_ALU_H(ka, op)                                                                                              \
    UOP_FN(uop_##op##h_ri_##ka)                                                                                        \
    {                                                                                                                  \
        uint8_t s = (uint8_t)UOP_IMM, r = (uint8_t)EXPR_##op((uint8_t)(GET(ka, a) >> 8), s);                           \
        PUT(ka, a, (GET(ka, a) & ~UINT64_C(0xFF00)) | (uint64_t)r << 8);                                               \
        SETF(KIND_##op, 1, r, s);                                                                                      \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_ALU_H, and)
EACH_KIND(DEF_ALU_H, or)
EACH_KIND(DEF_ALU_H, xor)
EMU_PRIV uop_fn handler_alu_high(unsigned op, unsigned ka)
{
    static const uop_table_ri t[3] = { TAB_RI(uop_andh_ri), TAB_RI(uop_orh_ri), TAB_RI(uop_xorh_ri) };
    return op == OP_AND ? t[0][ka] : op == OP_OR ? t[1][ka] : op == OP_XOR ? t[2][ka] : NULL;
}

/* ---- ADC, SBB ---- */
#define DEF_CARRY(ka, kb_unused, op, sz, sign)                                                                         \
    UOP_FN(uop_##op##sz##_rr_##ka)                                                                                     \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(R, a, sz), s = GETS(R, b, sz), r = (UTYPE_##sz)(d sign s sign (UTYPE_##sz)cpu_flag_carry(c)); \
        UTYPE_##sz carries = (UTYPE_##sz)(1 sign 1 ? (d & s) | ((d | s) & (UTYPE_##sz)~r) : ((UTYPE_##sz)~d & s) | (((UTYPE_##sz)~d | s) & r)); \
        UTYPE_##sz over = (UTYPE_##sz)((d ^ r) & (1 sign 1 ? s ^ r : d ^ s));                                          \
        PUTS_##sz(R, a, r);                                                                                            \
        SETF(FLAGK_RESULT, sz, r, (uint64_t)(carries >> (8 * sz - 1)) * FLAG_CF | (uint64_t)(over >> (8 * sz - 1)) * FLAG_OF | ((d ^ s ^ r) & FLAG_AF)); \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##_ri_##ka)                                                                                     \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(R, a, sz), s = (UTYPE_##sz)UOP_IMM, r = (UTYPE_##sz)(d sign s sign (UTYPE_##sz)cpu_flag_carry(c)); \
        UTYPE_##sz carries = (UTYPE_##sz)(1 sign 1 ? (d & s) | ((d | s) & (UTYPE_##sz)~r) : ((UTYPE_##sz)~d & s) | (((UTYPE_##sz)~d | s) & r)); \
        UTYPE_##sz over = (UTYPE_##sz)((d ^ r) & (1 sign 1 ? s ^ r : d ^ s));                                          \
        PUTS_##sz(R, a, r);                                                                                            \
        SETF(FLAGK_RESULT, sz, r, (uint64_t)(carries >> (8 * sz - 1)) * FLAG_CF | (uint64_t)(over >> (8 * sz - 1)) * FLAG_OF | ((d ^ s ^ r) & FLAG_AF)); \
        UOP_NEXT;                                                                                                      \
    }
DEF_CARRY(R, R, adc, 4, +)
DEF_CARRY(R, R, adc, 8, +)
DEF_CARRY(R, R, sbb, 4, -)
DEF_CARRY(R, R, sbb, 8, -)
EMU_PRIV uop_fn handler_carry(unsigned op, unsigned size, bool immediate)
{
    if (size < 4)
        return NULL;
    if (op == OP_ADC)
        return immediate ? (size == 4 ? uop_adc4_ri_R : uop_adc8_ri_R) : size == 4 ? uop_adc4_rr_R : uop_adc8_rr_R;
    return immediate ? (size == 4 ? uop_sbb4_ri_R : uop_sbb8_ri_R) : size == 4 ? uop_sbb4_rr_R : uop_sbb8_rr_R;
}

/* ---- one operand: INC DEC NEG NOT BSWAP ---- */
#define DEF_UNARY(ka, op, sz, expr, record)                                                                            \
    UOP_FN(uop_##op##sz##n_##ka)                                                                                       \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), r = (UTYPE_##sz)(expr);                                                        \
        (void)d;                                                                                                       \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##f_##ka)                                                                                       \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), r = (UTYPE_##sz)(expr);                                                        \
        record(sz, r, d);                                                                                              \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }
#define REC_inc(sz, r, d) SETF(FLAGK_INC, sz, r, cpu_flag_carry(c))
#define REC_dec(sz, r, d) SETF(FLAGK_DEC, sz, r, cpu_flag_carry(c))
#define REC_neg(sz, r, d) SETF(FLAGK_SUB, sz, r, d)
#define REC_none(sz, r, d) (void)0
#define DEF_UNARIES(op, expr, rec) EACH_KIND(DEF_UNARY, op, 1, expr, rec) EACH_KIND(DEF_UNARY, op, 2, expr, rec) EACH_KIND(DEF_UNARY, op, 4, expr, rec) EACH_KIND(DEF_UNARY, op, 8, expr, rec)
DEF_UNARIES(inc, d + 1u, REC_inc)
DEF_UNARIES(dec, d - 1u, REC_dec)
DEF_UNARIES(neg, 0u - d, REC_neg)
DEF_UNARIES(not, ~d, REC_none)
#define DEF_BSWAP(ka, sz, bits)                                                                                        \
    UOP_FN(uop_bswap##sz##n_##ka)                                                                                      \
    {                                                                                                                  \
        PUTS_##sz(ka, a, bswap##bits(GETS(ka, a, sz)));                                                                \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_BSWAP, 4, 32)
EACH_KIND(DEF_BSWAP, 8, 64)
/* INC and DEC whose CF nobody will read: no need to know the old one. */
#define DEF_INC0(ka, op, kind, sz, by)                                                                                 \
    UOP_FN(uop_##op##sz##z_##ka)                                                                                       \
    {                                                                                                                  \
        UTYPE_##sz r = (UTYPE_##sz)(GETS(ka, a, sz) + (UTYPE_##sz)by);                                                 \
        SETF(kind, sz, r, 0);                                                                                          \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_INC0, inc, FLAGK_INC, 4, 1)
EACH_KIND(DEF_INC0, inc, FLAGK_INC, 8, 1)
EACH_KIND(DEF_INC0, dec, FLAGK_DEC, 4, -1)
EACH_KIND(DEF_INC0, dec, FLAGK_DEC, 8, -1)
#define TAB_U(op) { { TAB_RI(uop_##op##1n), TAB_RI(uop_##op##1f) }, { TAB_RI(uop_##op##2n), TAB_RI(uop_##op##2f) }, { TAB_RI(uop_##op##4n), TAB_RI(uop_##op##4f) }, { TAB_RI(uop_##op##8n), TAB_RI(uop_##op##8f) } }
EMU_PRIV uop_fn handler_unary(unsigned op, unsigned size, bool flags, bool carry, unsigned ka)
{
    static const uop_table_ri unary[4][4][2] = { TAB_U(inc), TAB_U(dec), TAB_U(neg), TAB_U(not) };
    static const uop_table_ri without_carry[2][2] = { { TAB_RI(uop_inc4z), TAB_RI(uop_inc8z) }, { TAB_RI(uop_dec4z), TAB_RI(uop_dec8z) } };
    static const uop_table_ri bswap[2] = { TAB_RI(uop_bswap4n), TAB_RI(uop_bswap8n) };
    int s = handler_size_index(size);
    if (s < 0)
        return NULL;
    if (op == OP_BSWAP)
        return s > 1 ? bswap[s - 2][ka] : NULL;
    if ((op == OP_INC || op == OP_DEC) && flags && !carry && s > 1)
        return without_carry[op - OP_INC][s - 2][ka];
    return unary[op - OP_INC][s][flags][ka];
}

/* ---- shifts by a constant (1 to width - 1 in u->disp) ---- */
#define DEF_SHIFT_I(ka, op, sz, expr, cf, of)                                                                          \
    UOP_FN(uop_##op##sz##n_ri_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), r;                                                                             \
        unsigned n = (unsigned)u->disp;                                                                                \
        r = (UTYPE_##sz)(expr);                                                                                        \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##f_ri_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), r;                                                                             \
        unsigned n = (unsigned)u->disp;                                                                                \
        r = (UTYPE_##sz)(expr);                                                                                        \
        SETF(FLAGK_RESULT, sz, r, ((uint64_t)(cf) & 1) * FLAG_CF | ((uint64_t)(of) & 1) * FLAG_OF);                    \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_SHIFTS(sz, bits)                                                                                           \
    EACH_KIND(DEF_SHIFT_I, shl, sz, d << n, d >> (bits - n), (d >> (bits - 1)) ^ (d >> (bits - 2)))                    \
    EACH_KIND(DEF_SHIFT_I, shr, sz, d >> n, d >> (n - 1), d >> (bits - 1))                                             \
    EACH_KIND(DEF_SHIFT_I, sar, sz, sar64(UOP_SX(d, sz), n), sar64(UOP_SX(d, sz), n - 1), 0)
DEF_SHIFTS(1, 8)
DEF_SHIFTS(2, 16)
DEF_SHIFTS(4, 32)
DEF_SHIFTS(8, 64)
/* Rotates and shifts whose flags nobody reads; by RCL. */
#define DEF_ROT_I(ka, op, sz, expr)                                                                                    \
    UOP_FN(uop_##op##sz##n_ri_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz);                                                                                \
        unsigned n = (unsigned)u->disp;                                                                                \
        PUTS_##sz(ka, a, (UTYPE_##sz)(expr));                                                                          \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_ROT_I, rol, 2, d << n | d >> (16 - n))
EACH_KIND(DEF_ROT_I, rol, 4, d << n | d >> (32 - n))
EACH_KIND(DEF_ROT_I, rol, 8, d << n | d >> (64 - n))
/* With flags: CF and OF of the result, the rest stays. OF is as if the count were 1. */
#define DEF_ROT_F(ka, op, sz, expr, cf, of)                                                                            \
    UOP_FN(uop_##op##sz##f_ri_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), r;                                                                             \
        unsigned n = (unsigned)u->disp;                                                                                \
        r = (UTYPE_##sz)(expr);                                                                                        \
        c->flag_result = (cpu_arith_flags(c) & ~(uint32_t)(FLAG_CF | FLAG_OF)) | (uint32_t)((cf) & 1) * FLAG_CF | (uint32_t)((of) & 1) * FLAG_OF; \
        c->flag_kind = FLAGK_BITS;                                                                                     \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_ROT_F, rol, 2, d << n | d >> (16 - n), r, (d >> 15) ^ (d >> 14))
EACH_KIND(DEF_ROT_F, ror, 2, d >> n | d << (16 - n), r >> 15, d ^ (d >> 15))
EACH_KIND(DEF_ROT_F, rol, 4, d << n | d >> (32 - n), r, (d >> 31) ^ (d >> 30))
EACH_KIND(DEF_ROT_F, rol, 8, d << n | d >> (64 - n), r, (d >> 63) ^ (d >> 62))
EACH_KIND(DEF_ROT_F, ror, 4, d >> n | d << (32 - n), r >> 31, d ^ (d >> 31))
EACH_KIND(DEF_ROT_F, ror, 8, d >> n | d << (64 - n), r >> 63, d ^ (d >> 63))
#if EMU_SLOTS
#define UOP_RCX s2
#else
#define UOP_RCX c->gpr[GPR_RCX]
#endif
#define DEF_SHIFT_C(ka, op, sz, bits, expr)                                                                            \
    UOP_FN(uop_##op##sz##n_rc_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz);                                                                                \
        unsigned n = (unsigned)UOP_RCX & (bits - 1);                                                                   \
        PUTS_##sz(ka, a, (UTYPE_##sz)(expr));                                                                          \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_SHIFTS_C(sz, bits)                                                                                         \
    EACH_KIND(DEF_SHIFT_C, shl, sz, bits, d << n)                                                                      \
    EACH_KIND(DEF_SHIFT_C, shr, sz, bits, d >> n)                                                                      \
    EACH_KIND(DEF_SHIFT_C, sar, sz, bits, sar64(UOP_SX(d, sz), n))                                                     \
    EACH_KIND(DEF_SHIFT_C, rol, sz, bits, d << n | d >> ((bits - n) & (bits - 1)))                                     \
    EACH_KIND(DEF_SHIFT_C, ror, sz, bits, d >> n | d << ((bits - n) & (bits - 1)))
DEF_SHIFTS_C(4, 32u)
DEF_SHIFTS_C(8, 64u)
/* SHL, SHR, SAR by CL with flags, which a count of 0 leaves alone. */
#define DEF_SHIFT_CF(ka, op, sz, bits, expr, cf, of)                                                                   \
    UOP_FN(uop_##op##sz##f_rc_##ka)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), r;                                                                             \
        unsigned n = (unsigned)UOP_RCX & (bits - 1);                                                                   \
        r = (UTYPE_##sz)(expr);                                                                                        \
        if (n)                                                                                                         \
            SETF(FLAGK_RESULT, sz, r, ((uint64_t)(cf) & 1) * FLAG_CF | ((uint64_t)(of) & 1) * FLAG_OF);                \
        PUTS_##sz(ka, a, r);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_SHIFTS_CF(sz, bits)                                                                                        \
    EACH_KIND(DEF_SHIFT_CF, shl, sz, bits, d << n, d >> (bits - n), (d >> (bits - 1)) ^ (d >> (bits - 2)))             \
    EACH_KIND(DEF_SHIFT_CF, shr, sz, bits, d >> n, d >> (n - 1), d >> (bits - 1))                                      \
    EACH_KIND(DEF_SHIFT_CF, sar, sz, bits, sar64(UOP_SX(d, sz), n), sar64(UOP_SX(d, sz), n - 1), 0)
DEF_SHIFTS_CF(4, 32u)
DEF_SHIFTS_CF(8, 64u)

EMU_PRIV uop_fn handler_shift_ri(unsigned op, unsigned size, bool flags, unsigned ka)
{
    static const uop_table_ri shift[3][4][2] = {
        { { TAB_RI(uop_shl1n_ri), TAB_RI(uop_shl1f_ri) }, { TAB_RI(uop_shl2n_ri), TAB_RI(uop_shl2f_ri) }, { TAB_RI(uop_shl4n_ri), TAB_RI(uop_shl4f_ri) }, { TAB_RI(uop_shl8n_ri), TAB_RI(uop_shl8f_ri) } },
        { { TAB_RI(uop_shr1n_ri), TAB_RI(uop_shr1f_ri) }, { TAB_RI(uop_shr2n_ri), TAB_RI(uop_shr2f_ri) }, { TAB_RI(uop_shr4n_ri), TAB_RI(uop_shr4f_ri) }, { TAB_RI(uop_shr8n_ri), TAB_RI(uop_shr8f_ri) } },
        { { TAB_RI(uop_sar1n_ri), TAB_RI(uop_sar1f_ri) }, { TAB_RI(uop_sar2n_ri), TAB_RI(uop_sar2f_ri) }, { TAB_RI(uop_sar4n_ri), TAB_RI(uop_sar4f_ri) }, { TAB_RI(uop_sar8n_ri), TAB_RI(uop_sar8f_ri) } }
    };
    static const uop_table_ri rotate[3] = { TAB_RI(uop_rol2n_ri), TAB_RI(uop_rol4n_ri), TAB_RI(uop_rol8n_ri) };
    static const uop_table_ri rotate_f[3] = { TAB_RI(uop_rol2f_ri), TAB_RI(uop_rol4f_ri), TAB_RI(uop_rol8f_ri) };
    static const uop_table_ri rotate_r[3] = { TAB_RI(uop_ror2f_ri), TAB_RI(uop_ror4f_ri), TAB_RI(uop_ror8f_ri) };
    int s = handler_size_index(size);
    if (s < 0)
        return NULL;
    if (op == OP_ROL) /* ROR n is ROL width - n */
        return s < 1 ? NULL : flags ? rotate_f[s - 1][ka] : rotate[s - 1][ka];
    if (op == OP_ROR)
        return s < 1 || !flags ? NULL : rotate_r[s - 1][ka];
    return op == OP_SHL ? shift[0][s][flags][ka] : op == OP_SHR ? shift[1][s][flags][ka] : op == OP_SAR ? shift[2][s][flags][ka] : NULL;
}
EMU_PRIV uop_fn handler_shift_cl(unsigned op, unsigned size, bool flags, unsigned ka)
{
    static const uop_table_ri shift[5][2] = {
        { TAB_RI(uop_shl4n_rc), TAB_RI(uop_shl8n_rc) }, { TAB_RI(uop_shr4n_rc), TAB_RI(uop_shr8n_rc) }, { TAB_RI(uop_sar4n_rc), TAB_RI(uop_sar8n_rc) },
        { TAB_RI(uop_rol4n_rc), TAB_RI(uop_rol8n_rc) }, { TAB_RI(uop_ror4n_rc), TAB_RI(uop_ror8n_rc) }
    };
    static const uop_table_ri shift_f[3][2] = {
        { TAB_RI(uop_shl4f_rc), TAB_RI(uop_shl8f_rc) }, { TAB_RI(uop_shr4f_rc), TAB_RI(uop_shr8f_rc) }, { TAB_RI(uop_sar4f_rc), TAB_RI(uop_sar8f_rc) }
    };
    int o = op == OP_SHL ? 0 : op == OP_SHR ? 1 : op == OP_SAR ? 2 : op == OP_ROL ? 3 : op == OP_ROR ? 4 : -1;
    if (o < 0 || size < 4 || (flags && o > 2))
        return NULL;
    return flags ? shift_f[o][size == 8][ka] : shift[o][size == 8][ka];
}

/* SHLD, SHRD between cells by 1 to width - 1; OF is as if the count were 1 */
#define DEF_SHIFT_DOUBLE(sz, bits)                                                                                     \
    UOP_FN(uop_shld##sz##_rr)                                                                                          \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(R, a, sz), s = GETS(R, b, sz), r;                                                          \
        unsigned n = (unsigned)u->disp & (bits - 1);                                                                   \
        r = (UTYPE_##sz)(d << n | s >> (bits - n));                                                                    \
        PUTS_##sz(R, a, r);                                                                                            \
        SETF(FLAGK_RESULT, sz, r, (uint64_t)((d >> (bits - n)) & 1) * FLAG_CF | (uint64_t)(((d >> (bits - 1)) ^ (d >> (bits - 2))) & 1) * FLAG_OF); \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_shrd##sz##_rr)                                                                                          \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(R, a, sz), s = GETS(R, b, sz), r;                                                          \
        unsigned n = (unsigned)u->disp & (bits - 1);                                                                   \
        r = (UTYPE_##sz)(d >> n | s << (bits - n));                                                                    \
        PUTS_##sz(R, a, r);                                                                                            \
        SETF(FLAGK_RESULT, sz, r, (uint64_t)((d >> (n - 1)) & 1) * FLAG_CF | (uint64_t)((s ^ (d >> (bits - 1))) & 1) * FLAG_OF); \
        UOP_NEXT;                                                                                                      \
    }
DEF_SHIFT_DOUBLE(4, 32)
DEF_SHIFT_DOUBLE(8, 64)
EMU_PRIV uop_fn handler_shift_double(unsigned op, unsigned size)
{
    if (size < 4)
        return NULL;
    return op == OP_SHLD ? (size == 4 ? uop_shld4_rr : uop_shld8_rr) : size == 4 ? uop_shrd4_rr : uop_shrd8_rr;
}

/* ---- moves ---- */
#define DEF_MOV_RR(kb, ka, name, sz, expr)                                                                             \
    UOP_FN(uop_##name##_rr_##ka##kb)                                                                                   \
    {                                                                                                                  \
        uint64_t s = GET(kb, b);                                                                                       \
        PUTS_##sz(ka, a, expr);                                                                                        \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND2(DEF_MOV_RR, mov1, 1, s)
EACH_KIND2(DEF_MOV_RR, mov2, 2, s)
EACH_KIND2(DEF_MOV_RR, mov4, 4, s)
EACH_KIND2(DEF_MOV_RR, mov8, 8, s)
EACH_KIND2(DEF_MOV_RR, movz1, 8, (uint8_t)s)
EACH_KIND2(DEF_MOV_RR, movz2, 8, (uint16_t)s)
EACH_KIND2(DEF_MOV_RR, movh1, 8, (uint8_t)(s >> 8)) /* MOVZX from AH..BH */
EACH_KIND2(DEF_MOV_RR, movs1_4, 4, UOP_SX(s, 1))
EACH_KIND2(DEF_MOV_RR, movs2_4, 4, UOP_SX(s, 2))
EACH_KIND2(DEF_MOV_RR, movs1_8, 8, UOP_SX(s, 1))
EACH_KIND2(DEF_MOV_RR, movs2_8, 8, UOP_SX(s, 2))
EACH_KIND2(DEF_MOV_RR, movs4_8, 8, UOP_SX(s, 4))
#define DEF_MOV_RI(ka, sz)                                                                                             \
    UOP_FN(uop_mov##sz##_ri_##ka)                                                                                      \
    {                                                                                                                  \
        PUTS_##sz(ka, a, u->v.imm);                                                                                    \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_MOV_RI, 1)
EACH_KIND(DEF_MOV_RI, 2)
EACH_KIND(DEF_MOV_RI, 8)
/* dst: size of the write (1, 2, 4, 8); src: bytes taken (0: AH..BH), sx: sign-extended. */
/* The second move's uop follows as it is. */
UOP_FN(uop_mov8x2_rr)
{
    UOP_CELL(u->a) = UOP_CELL(u->b);
    UOP_CELL(u[1].a) = UOP_CELL(u[1].b);
    UOP_ON(2);
}
EMU_PRIV uop_fn handler_mov_pair(void) { return uop_mov8x2_rr; }
EMU_PRIV uop_fn handler_mov_rr(unsigned dst, unsigned src, bool sx, unsigned ka, unsigned kb)
{
    static const uop_table_rr mov[12] = { TAB_RR(uop_mov1_rr), TAB_RR(uop_mov2_rr), TAB_RR(uop_mov4_rr), TAB_RR(uop_mov8_rr), TAB_RR(uop_movz1_rr), TAB_RR(uop_movz2_rr),
                                          TAB_RR(uop_movh1_rr), TAB_RR(uop_movs1_4_rr), TAB_RR(uop_movs2_4_rr), TAB_RR(uop_movs1_8_rr), TAB_RR(uop_movs2_8_rr),
                                          TAB_RR(uop_movs4_8_rr) };
    unsigned n;
    if (dst == src)
        n = dst == 8 ? 3 : dst >> 1;
    else if (!sx)
        n = src == 0 ? 6 : src == 1 ? 4 : src == 2 ? 5 : 2;
    else
        n = dst == 4 ? (src == 1 ? 7 : 8) : src == 1 ? 9 : src == 2 ? 10 : 11;
    return mov[n][ka * UOP_KINDS + kb];
}
EMU_PRIV uop_fn handler_mov_ri(unsigned size, unsigned ka) /* 32-bit immediates are zero-extended in v.imm */
{
    static const uop_table_ri mov[3] = { TAB_RI(uop_mov1_ri), TAB_RI(uop_mov2_ri), TAB_RI(uop_mov8_ri) };
    return mov[size == 1 ? 0 : size == 2 ? 1 : 2][ka];
}
/* Exchange of two whole registers (8), or of their low halves (4). */
#define DEF_XCHG(kb, ka, sz)                                                                                           \
    UOP_FN(uop_xchg##sz##_rr_##ka##kb)                                                                                 \
    {                                                                                                                  \
        UTYPE_##sz x = GETS(ka, a, sz), y = GETS(kb, b, sz);                                                           \
        PUTS_##sz(ka, a, y);                                                                                           \
        PUTS_##sz(kb, b, x);                                                                                           \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND2(DEF_XCHG, 4)
EACH_KIND2(DEF_XCHG, 8)
EMU_PRIV uop_fn handler_xchg_rr(unsigned size, unsigned ka, unsigned kb)
{
    static const uop_table_rr xchg[2] = { TAB_RR(uop_xchg4_rr), TAB_RR(uop_xchg8_rr) };
    return size < 4 ? NULL : xchg[size == 8][ka * UOP_KINDS + kb];
}

/* ---- LEA: a = b + (x << scale) + disp; also the address part of uncommon memory operands ---- */
#define DEF_LEA_B(kb, ka, sz)                                                                                          \
    UOP_FN(uop_lea##sz##_b_##ka##kb)                                                                                   \
    {                                                                                                                  \
        PUTS_##sz(ka, a, GET(kb, b) + UOP_IMM);                                                                        \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_LEA_X(kx, kb, ka, sz)                                                                                      \
    UOP_FN(uop_lea##sz##_x_##ka##kb##kx)                                                                               \
    {                                                                                                                  \
        PUTS_##sz(ka, a, GET(kb, b) + (GET(kx, x) << u->scale) + UOP_IMM);                                             \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND2(DEF_LEA_B, 4)
EACH_KIND2(DEF_LEA_B, 8)
EACH_KIND3(DEF_LEA_X, 4)
EACH_KIND3(DEF_LEA_X, 8)
EMU_PRIV uop_fn handler_lea(unsigned size, bool index, unsigned ka, unsigned kb, unsigned kx)
{
    static const uop_table_rr base[2] = { TAB_RR(uop_lea4_b), TAB_RR(uop_lea8_b) };
    static const uop_fn both[2][UOP_KINDS * UOP_KINDS * UOP_KINDS] = { TAB_RRR(uop_lea4_x), TAB_RRR(uop_lea8_x) };
    return index ? both[size == 8][(ka * UOP_KINDS + kb) * UOP_KINDS + kx] : base[size == 8][ka * UOP_KINDS + kb];
}

/* ---- multiplication, flags not wanted ---- */
#define DEF_IMUL_RR(kb, ka, sz)                                                                                        \
    UOP_FN(uop_imul##sz##_rr_##ka##kb)                                                                                 \
    {                                                                                                                  \
        PUTS_##sz(ka, a, (UTYPE_##sz)(GETS(ka, a, sz) * GETS(kb, b, sz)));                                             \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_imul##sz##_rri_##ka##kb)                                                                                \
    {                                                                                                                  \
        PUTS_##sz(ka, a, (UTYPE_##sz)(GETS(kb, b, sz) * (UTYPE_##sz)UOP_IMM));                                         \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND2(DEF_IMUL_RR, 4)
EACH_KIND2(DEF_IMUL_RR, 8)
EMU_PRIV uop_fn handler_imul(unsigned size, bool immediate, unsigned ka, unsigned kb)
{
    static const uop_table_rr imul[2][2] = { { TAB_RR(uop_imul4_rr), TAB_RR(uop_imul8_rr) }, { TAB_RR(uop_imul4_rri), TAB_RR(uop_imul8_rri) } };
    return size < 4 ? NULL : imul[immediate][size == 8][ka * UOP_KINDS + kb];
}
#if EMU_SLOTS
#define UOP_RAX s0
#define UOP_RDX s1
#define UOP_SET_RAX(v) (s0 = (v))
#define UOP_SET_RDX(v) (s1 = (v))
#else
#define UOP_RAX c->gpr[GPR_RAX]
#define UOP_RDX c->gpr[GPR_RDX]
#define UOP_SET_RAX(v) (c->gpr[GPR_RAX] = (v))
#define UOP_SET_RDX(v) (c->gpr[GPR_RDX] = (v))
#endif
#if EMU_HAVE_U128
#define UOP_MULHI(a, b) ((uint64_t)(((emu_u128)(a) * (b)) >> 64))
#else
EMU_INLINE uint64_t uop_mulhi(uint64_t a, uint64_t b)
{
    uint64_t hi;
    mul64(a, b, &hi);
    return hi;
}
#define UOP_MULHI(a, b) uop_mulhi(a, b)
#endif
/* Between cells, with flags: CF and OF say that the product does not fit. */
#define DEF_IMUL_FLAGS(form, x, y)                                                                                     \
    UOP_FN(uop_imul4f_##form)                                                                                          \
    {                                                                                                                  \
        uint64_t p = UOP_SX(x, 4) * UOP_SX(y, 4);                                                                      \
        PUTS_4(R, a, p);                                                                                               \
        SETF(FLAGK_RESULT, 4, p, p != UOP_SX(p, 4) ? FLAG_CF | FLAG_OF : 0);                                           \
        c->flag_result |= FLAG_RESULT_NOT_ZERO;                                                                        \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_imul8f_##form)                                                                                          \
    {                                                                                                                  \
        uint64_t m = x, n = y, p = m * n, high = UOP_MULHI(m, n) - (m >> 63 ? n : 0) - (n >> 63 ? m : 0);              \
        PUTS_8(R, a, p);                                                                                               \
        SETF(FLAGK_RESULT, 8, p, high != 0 - (p >> 63) ? FLAG_CF | FLAG_OF : 0);                                       \
        c->flag_result |= FLAG_RESULT_NOT_ZERO;                                                                        \
        UOP_NEXT;                                                                                                      \
    }
DEF_IMUL_FLAGS(rr, GET(R, a), GET(R, b))
DEF_IMUL_FLAGS(rri, GET(R, b), (uint64_t)(int64_t)u->disp)
EMU_PRIV uop_fn handler_imul_flags(unsigned size, bool immediate)
{
    return size == 4 ? (immediate ? uop_imul4f_rri : uop_imul4f_rr) : immediate ? uop_imul8f_rri : uop_imul8f_rr;
}
#define DEF_MUL(ka, unused)                                                                                            \
    UOP_FN(uop_mul4_##ka)                                                                                              \
    {                                                                                                                  \
        uint64_t p = (uint64_t)(uint32_t)UOP_RAX * (uint32_t)GET(ka, a);                                               \
        UOP_SET_RAX((uint32_t)p);                                                                                      \
        UOP_SET_RDX(p >> 32);                                                                                          \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_mul8_##ka)                                                                                              \
    {                                                                                                                  \
        uint64_t x = UOP_RAX, y = GET(ka, a);                                                                          \
        UOP_SET_RAX(x * y);                                                                                            \
        UOP_SET_RDX(UOP_MULHI(x, y));                                                                                  \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_imul1_4_##ka)                                                                                           \
    {                                                                                                                  \
        uint64_t p = UOP_SX(UOP_RAX, 4) * UOP_SX(GET(ka, a), 4);                                                       \
        UOP_SET_RAX((uint32_t)p);                                                                                      \
        UOP_SET_RDX(p >> 32);                                                                                          \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_imul1_8_##ka)                                                                                           \
    {                                                                                                                  \
        uint64_t x = UOP_RAX, y = GET(ka, a);                                                                          \
        UOP_SET_RAX(x * y);                                                                                            \
        UOP_SET_RDX(UOP_MULHI(x, y) - (x >> 63 ? y : 0) - (y >> 63 ? x : 0));                                          \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_div4_##ka)                                                                                              \
    {                                                                                                                  \
        uint32_t s = (uint32_t)GET(ka, a);                                                                             \
        uint64_t n = (uint32_t)UOP_RAX | UOP_RDX << 32;                                                                \
        if (EMU_UNLIKELY((uint32_t)UOP_RDX >= s)) {                                                                    \
            c->fault.vector = EXC_DE;                                                                                  \
            c->fault.flags = 0;                                                                                        \
            UOP_TAIL(uop_fault);                                                                                       \
        }                                                                                                              \
        UOP_SET_RAX(n / s);                                                                                            \
        UOP_SET_RDX(n % s);                                                                                            \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_idiv4_##ka)                                                                                             \
    {                                                                                                                  \
        int64_t s = (int64_t)(int32_t)GET(ka, a), n = (int64_t)((uint32_t)UOP_RAX | UOP_RDX << 32), q;                 \
        q = s == 0 || (s == -1 && n == INT64_MIN) ? INT64_MAX : n / s;                                                 \
        if (EMU_UNLIKELY(q != (int32_t)q)) {                                                                           \
            c->fault.vector = EXC_DE;                                                                                  \
            c->fault.flags = 0;                                                                                        \
            UOP_TAIL(uop_fault);                                                                                       \
        }                                                                                                              \
        UOP_SET_RAX((uint32_t)q);                                                                                      \
        UOP_SET_RDX((uint32_t)(n % s));                                                                                \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_div8_##ka)                                                                                              \
    {                                                                                                                  \
        uint64_t s = GET(ka, a), n = UOP_RAX;                                                                          \
        if (EMU_LIKELY(UOP_RDX == 0 && s != 0)) {                                                                      \
            UOP_SET_RAX(n / s);                                                                                        \
            UOP_SET_RDX(n % s);                                                                                        \
            UOP_NEXT;                                                                                                  \
        }                                                                                                              \
        c->gpr[GPR_TEMP] = s;                                                                                          \
        UOP_TAIL(uop_div8_slow);                                                                                       \
    }
UOP_FN(uop_div8_slow)
{
    uint64_t s = c->gpr[GPR_TEMP], hi = UOP_RDX, lo = UOP_RAX, r = 0, bits = 64, q = 0;
    if (hi >= s) {
        c->fault.vector = EXC_DE;
        c->fault.flags = 0;
        UOP_TAIL(uop_fault);
    }
    for (r = hi; bits; bits--) { /* no local's address may be taken here: the plain way */
        uint64_t carry = r >> 63;
        r = (r << 1) | (lo >> 63);
        lo <<= 1;
        q <<= 1;
        if (carry || r >= s) {
            r -= s;
            q |= 1;
        }
    }
    UOP_SET_RAX(q);
    UOP_SET_RDX(r);
    UOP_NEXT;
}
EACH_KIND(DEF_MUL, 0)
EMU_PRIV uop_fn handler_mul(unsigned op, unsigned size, unsigned ka)
{
    static const uop_table_ri mul[3][2] = { { TAB_RI(uop_mul4), TAB_RI(uop_mul8) }, { TAB_RI(uop_imul1_4), TAB_RI(uop_imul1_8) }, { TAB_RI(uop_div4), TAB_RI(uop_div8) } };
    static const uop_table_ri idiv = TAB_RI(uop_idiv4);
    if (size < 4)
        return NULL;
    if (op == OP_IDIV)
        return size == 4 ? idiv[ka] : NULL;
    return mul[op == OP_MUL ? 0 : op == OP_IMUL1 ? 1 : 2][size == 8][ka];
}

/* ---- CBW.., CWD.. ---- */
UOP_FN(uop_cwde) { UOP_SET_RAX((uint32_t)UOP_SX(UOP_RAX, 2)); UOP_NEXT; }
UOP_FN(uop_cdqe) { UOP_SET_RAX(UOP_SX(UOP_RAX, 4)); UOP_NEXT; }
UOP_FN(uop_cdq) { UOP_SET_RDX((uint32_t)UOP_RAX >> 31 ? UINT32_C(0xFFFFFFFF) : 0); UOP_NEXT; }
UOP_FN(uop_cqo) { UOP_SET_RDX(UOP_RAX >> 63 ? UINT64_MAX : 0); UOP_NEXT; }
EMU_PRIV uop_fn handler_extend_rax(bool into_rdx, unsigned size)
{
    return size < 4 ? NULL : into_rdx ? (size == 4 ? uop_cdq : uop_cqo) : size == 4 ? uop_cwde : uop_cdqe;
}

/* ---- bits; register file only, the builder spills ---- */
#define DEF_BT(sz, bits)                                                                                               \
    UOP_FN(uop_bt##sz##_rr)                                                                                            \
    {                                                                                                                  \
        uint64_t n = (u->misc ? (uint64_t)u->disp : GET(R, b)) & (bits - 1);                                           \
        c->flag_kind = FLAGK_RESULT; /* CF is all that will be read */                                                 \
        c->flag_source = (GETS(R, a, sz) >> n) & 1;                                                                    \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_bts##sz##_rr)                                                                                           \
    {                                                                                                                  \
        uint64_t n = (u->misc ? (uint64_t)u->disp : GET(R, b)) & (bits - 1);                                           \
        UTYPE_##sz d = GETS(R, a, sz);                                                                                 \
        c->flag_kind = FLAGK_RESULT;                                                                                   \
        c->flag_source = (d >> n) & 1;                                                                                 \
        PUTS_##sz(R, a, d | (UTYPE_##sz)1 << n);                                                                       \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_btr##sz##_rr)                                                                                           \
    {                                                                                                                  \
        uint64_t n = (u->misc ? (uint64_t)u->disp : GET(R, b)) & (bits - 1);                                           \
        UTYPE_##sz d = GETS(R, a, sz);                                                                                 \
        c->flag_kind = FLAGK_RESULT;                                                                                   \
        c->flag_source = (d >> n) & 1;                                                                                 \
        PUTS_##sz(R, a, d & ~((UTYPE_##sz)1 << n));                                                                    \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_btc##sz##_rr)                                                                                           \
    {                                                                                                                  \
        uint64_t n = (u->misc ? (uint64_t)u->disp : GET(R, b)) & (bits - 1);                                           \
        UTYPE_##sz d = GETS(R, a, sz);                                                                                 \
        c->flag_kind = FLAGK_RESULT;                                                                                   \
        c->flag_source = (d >> n) & 1;                                                                                 \
        PUTS_##sz(R, a, d ^ (UTYPE_##sz)1 << n);                                                                       \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_bsf##sz##_rr)                                                                                           \
    {                                                                                                                  \
        UTYPE_##sz s = GETS(R, b, sz);                                                                                 \
        c->flag_kind = FLAGK_LOGIC | LOG_##sz;                                                                         \
        if (s) {                                                                                                       \
            unsigned n = ctz64(s);                                                                                     \
            PUTS_##sz(R, a, n);                                                                                        \
            c->flag_result = 0x100 | n;                                                                                \
        } else {                                                                                                       \
            c->flag_result = 0;                                                                                        \
        }                                                                                                              \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_bsr##sz##_rr)                                                                                           \
    {                                                                                                                  \
        UTYPE_##sz s = GETS(R, b, sz);                                                                                 \
        c->flag_kind = FLAGK_LOGIC | LOG_##sz;                                                                         \
        if (s) {                                                                                                       \
            unsigned n = 63 - clz64(s);                                                                                \
            PUTS_##sz(R, a, n);                                                                                        \
            c->flag_result = 0x100 | n;                                                                                \
        } else {                                                                                                       \
            c->flag_result = 0;                                                                                        \
        }                                                                                                              \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_popcnt##sz##_rr)                                                                                        \
    {                                                                                                                  \
        UTYPE_##sz s = GETS(R, b, sz);                                                                                 \
        PUTS_##sz(R, a, popcount64(s));                                                                                \
        c->flag_kind = FLAGK_BITS;                                                                                     \
        c->flag_result = s ? 0 : FLAG_ZF;                                                                              \
        UOP_NEXT;                                                                                                      \
    }
DEF_BT(4, 32)
DEF_BT(8, 64)
EMU_PRIV uop_fn handler_bits(unsigned op, unsigned size)
{
    bool q = size == 8;
    if (size < 4)
        return NULL;
    switch (op) {
    case OP_BT: return q ? uop_bt8_rr : uop_bt4_rr;
    case OP_BTS: return q ? uop_bts8_rr : uop_bts4_rr;
    case OP_BTR: return q ? uop_btr8_rr : uop_btr4_rr;
    case OP_BTC: return q ? uop_btc8_rr : uop_btc4_rr;
    case OP_BSF: return q ? uop_bsf8_rr : uop_bsf4_rr;
    case OP_BSR: return q ? uop_bsr8_rr : uop_bsr4_rr;
    case OP_POPCNT: return q ? uop_popcnt8_rr : uop_popcnt4_rr;
    default: return NULL;
    }
}

/* ---- conditions from recorded flags: the condition into a = TEMP, SETcc and CMOVcc from it. See handlers_flow.c for EACH_CONDITION. ---- */
#define DEF_SETCC(ka, unused)                                                                                          \
    UOP_FN(uop_setcc_##ka)                                                                                             \
    {                                                                                                                  \
        PUTS_1(ka, a, c->gpr[GPR_TEMP]);                                                                               \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_SETCC, 0)
#define DEF_CMOV(kb, ka, sz)                                                                                           \
    UOP_FN(uop_cmov##sz##_##ka##kb)                                                                                    \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), s = GETS(kb, b, sz);                                                           \
        PUTS_##sz(ka, a, c->gpr[GPR_TEMP] ? s : d);                                                                    \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND2(DEF_CMOV, 4)
EACH_KIND2(DEF_CMOV, 8)
EMU_PRIV uop_fn handler_setcc(unsigned ka)
{
    static const uop_table_ri setcc = TAB_RI(uop_setcc);
    return setcc[ka];
}
EMU_PRIV uop_fn handler_cmov(unsigned size, unsigned ka, unsigned kb)
{
    static const uop_table_rr cmov[2] = { TAB_RR(uop_cmov4), TAB_RR(uop_cmov8) };
    return size < 4 ? NULL : cmov[size == 8][ka * UOP_KINDS + kb];
}

/* ---- slots to and from the register file, for handlers that know only the latter ---- */
#define DEF_SPILL(ka, unused)                                                                                          \
    UOP_FN(uop_spill_##ka)                                                                                             \
    {                                                                                                                  \
        UOP_CELL(u->a) = GET(ka, a);                                                                                   \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_reload_##ka)                                                                                            \
    {                                                                                                                  \
        PUT(ka, a, UOP_CELL(u->a));                                                                                    \
        UOP_NEXT;                                                                                                      \
    }
EACH_KIND(DEF_SPILL, 0)
EMU_PRIV uop_fn handler_spill(unsigned ka)
{
    static const uop_table_ri t = TAB_RI(uop_spill);
    return t[ka];
}
EMU_PRIV uop_fn handler_reload(unsigned ka)
{
    static const uop_table_ri t = TAB_RI(uop_reload);
    return t[ka];
}
