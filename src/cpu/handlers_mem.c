/* cpu/handlers_mem.c - handlers with a memory operand.
 *
 * Contract   The trace builder asks handler_*(). Addresses are b + disp or b + (x << scale) + disp, 64 bits, segment bases included; other
 *            forms of address are first computed into GPR_TEMP by another uop.
 * Theory     Each memory uop keeps the translation of the page it touched last in its second unit (struct uop_page); UOP_HOST checks
 *            generation, page and the page's end, else a miss handler (handlers_flow.c) takes over and runs the same uop again,
 *            if need be on a bounce buffer. So a handler here never sees I/O, page crossings or faults.
 * Invariants 1. Every handler makes exactly one access (two of them only inside one range that UOP_HOST was asked for), and changes registers
 *               after it.
 *            2. No handler here that takes cells only writes to the cell of a slot: the slow way spills the slots behind it.
 *            3. Handlers that store and leave by a link have miss handlers of their own (uop_miss_call*): the bounce buffer is written
 *               back at the following uop.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

#define LD_1(p) ld8(p)
#define LD_2(p) ld16le(p)
#define LD_4(p) ld32le(p)
#define LD_8(p) ld64le(p)
#define ST_1(p, v) st8(p, (uint8_t)(v))
#define ST_2(p, v) st16le(p, (uint16_t)(v))
#define ST_4(p, v) st32le(p, (uint32_t)(v))
#define ST_8(p, v) st64le(p, v)
#define VA_B(kb) (GET(kb, b) + UOP_IMM)
#define VA_X(kb, kx) (GET(kb, b) + (GET(kx, x) << u->scale) + UOP_IMM)
#define UOP_IMM2(sz) ((UTYPE_##sz)u->v.imm)
#define UOP_IMM_AX(sz) ((UTYPE_##sz)(int64_t)(int32_t)((uint32_t)u->x << 16 | u->a)) /* where v is a link */

/* ---- loads ---- */
#define DEF_LOAD_B(kb, ka, name, sz, put, expr)                                                                        \
    UOP_FN(uop_ld_##name##_b_##ka##kb)                                                                                 \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UOP_HOST(p, va, r, sz);                                                                                        \
        PUTS_##put(ka, a, expr);                                                                                       \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_LOAD_X(kx, kb, ka, name, sz, put, expr)                                                                    \
    UOP_FN(uop_ld_##name##_x_##ka##kb##kx)                                                                             \
    {                                                                                                                  \
        uint64_t va = VA_X(kb, kx);                                                                                    \
        const uint8_t *p;                                                                                              \
        UOP_HOST(p, va, r, sz);                                                                                        \
        PUTS_##put(ka, a, expr);                                                                                       \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_LOAD_BASE(name, sz, put, expr) EACH_KIND2(DEF_LOAD_B, name, sz, put, expr)
#define DEF_LOAD(name, sz, put, expr) DEF_LOAD_BASE(name, sz, put, expr) EACH_KIND3(DEF_LOAD_X, name, sz, put, expr)
DEF_LOAD(z1, 1, 8, ld8(p))
DEF_LOAD(z2, 2, 8, ld16le(p))
DEF_LOAD(l4, 4, 8, ld32le(p))
DEF_LOAD(l8, 8, 8, ld64le(p))
DEF_LOAD(s1_4, 1, 4, UOP_SX(ld8(p), 1))
DEF_LOAD_BASE(s2_4, 2, 4, UOP_SX(ld16le(p), 2))
DEF_LOAD_BASE(s1_8, 1, 8, UOP_SX(ld8(p), 1))
DEF_LOAD_BASE(s2_8, 2, 8, UOP_SX(ld16le(p), 2))
DEF_LOAD(s4_8, 4, 8, UOP_SX(ld32le(p), 4))
DEF_LOAD_BASE(m1, 1, 1, ld8(p))
DEF_LOAD_BASE(m2, 2, 2, ld16le(p))

/* The rarer ones have their index added before. */
EMU_PRIV bool handler_load_has_index(enum uop_load what) { return what <= LOAD_S1_4 || what == LOAD_S4_8; }
EMU_PRIV uop_fn handler_load(enum uop_load what, bool index, unsigned ka, unsigned kb, unsigned kx)
{
    static const uop_table_rr base[LOAD_COUNT] = { /* ORDER uop_load */
        TAB_RR(uop_ld_z1_b), TAB_RR(uop_ld_z2_b), TAB_RR(uop_ld_l4_b), TAB_RR(uop_ld_l8_b), TAB_RR(uop_ld_s1_4_b), TAB_RR(uop_ld_s2_4_b),
        TAB_RR(uop_ld_s1_8_b), TAB_RR(uop_ld_s2_8_b), TAB_RR(uop_ld_s4_8_b), TAB_RR(uop_ld_m1_b), TAB_RR(uop_ld_m2_b)
    };
    static const uop_fn both[LOAD_COUNT][UOP_KINDS * UOP_KINDS * UOP_KINDS] = {
        TAB_RRR(uop_ld_z1_x), TAB_RRR(uop_ld_z2_x), TAB_RRR(uop_ld_l4_x), TAB_RRR(uop_ld_l8_x), TAB_RRR(uop_ld_s1_4_x), { NULL }, { NULL }, { NULL },
        TAB_RRR(uop_ld_s4_8_x), { NULL }, { NULL }
    };
    return index ? both[what][(ka * UOP_KINDS + kb) * UOP_KINDS + kx] : base[what][ka * UOP_KINDS + kb];
}

/* ---- stores ---- */
#define DEF_STORE_B(kb, ka, sz)                                                                                        \
    UOP_FN(uop_st##sz##_b_##ka##kb)                                                                                    \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UOP_HOST(p, va, w, sz);                                                                                        \
        ST_##sz(p, GET(ka, a));                                                                                        \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_STORE_X(kx, kb, ka, sz)                                                                                    \
    UOP_FN(uop_st##sz##_x_##ka##kb##kx)                                                                                \
    {                                                                                                                  \
        uint64_t va = VA_X(kb, kx);                                                                                    \
        uint8_t *p;                                                                                                    \
        UOP_HOST(p, va, w, sz);                                                                                        \
        ST_##sz(p, GET(ka, a));                                                                                        \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_STORE_I(kb, sz)                                                                                            \
    UOP_FN(uop_sti##sz##_##kb)                                                                                         \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UOP_HOST(p, va, w, sz);                                                                                        \
        ST_##sz(p, UOP_IMM2(sz));                                                                                      \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_STORE(sz) EACH_KIND2(DEF_STORE_B, sz) EACH_KIND3(DEF_STORE_X, sz) EACH_KIND(DEF_STORE_I, sz)
DEF_STORE(1)
DEF_STORE(2)
DEF_STORE(4)
DEF_STORE(8)
EMU_PRIV uop_fn handler_store(unsigned size, bool index, unsigned ka, unsigned kb, unsigned kx)
{
    static const uop_table_rr base[4] = { TAB_RR(uop_st1_b), TAB_RR(uop_st2_b), TAB_RR(uop_st4_b), TAB_RR(uop_st8_b) };
    static const uop_fn both[4][UOP_KINDS * UOP_KINDS * UOP_KINDS] = { TAB_RRR(uop_st1_x), TAB_RRR(uop_st2_x), TAB_RRR(uop_st4_x), TAB_RRR(uop_st8_x) };
    unsigned s = size == 8 ? 3 : size >> 1;
    return index ? both[s][(ka * UOP_KINDS + kb) * UOP_KINDS + kx] : base[s][ka * UOP_KINDS + kb];
}
EMU_PRIV uop_fn handler_store_imm(unsigned size, unsigned kb)
{
    static const uop_table_ri t[4] = { TAB_RI(uop_sti1), TAB_RI(uop_sti2), TAB_RI(uop_sti4), TAB_RI(uop_sti8) };
    return t[size == 8 ? 3 : size >> 1][kb];
}

/* ---- register op= memory ---- */
#define DEF_ALU_RM(kb, ka, op, sz)                                                                                     \
    UOP_FN(uop_##op##sz##n_rm_##ka##kb)                                                                                \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UOP_HOST(p, va, r, sz);                                                                                        \
        PUTS_##sz(ka, a, EXPR_##op(GETS(ka, a, sz), LD_##sz(p)));                                                      \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##f_rm_##ka##kb)                                                                                \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UTYPE_##sz s, r;                                                                                               \
        UOP_HOST(p, va, r, sz);                                                                                        \
        s = LD_##sz(p);                                                                                                \
        r = (UTYPE_##sz)EXPR_##op(GETS(ka, a, sz), s);                                                                 \
        PUTS_##sz(ka, a, r);                                                                                           \
        SETF(KIND_##op, sz, r, s);                                                                                     \
        UOP_NEXT_MEM;                                                                                                  \
    }
/* CMP: memory is the second operand (rm), or the first (mr). TEST: mr. */
#define DEF_CMP_RM(kb, ka, op, e, kind, sz)                                                                            \
    UOP_FN(uop_##op##sz##_rm_##ka##kb)                                                                                 \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UTYPE_##sz s, r;                                                                                               \
        UOP_HOST(p, va, r, sz);                                                                                        \
        s = LD_##sz(p);                                                                                                \
        r = (UTYPE_##sz)EXPR_##e(GETS(ka, a, sz), s);                                                                  \
        SETF(kind, sz, r, s);                                                                                          \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_CMP_MR(kb, ka, op, e, kind, sz)                                                                            \
    UOP_FN(uop_##op##sz##_mr_##ka##kb)                                                                                 \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UTYPE_##sz s, r;                                                                                               \
        UOP_HOST(p, va, r, sz);                                                                                        \
        s = GETS(ka, a, sz);                                                                                           \
        r = (UTYPE_##sz)EXPR_##e(LD_##sz(p), s);                                                                       \
        SETF(kind, sz, r, s);                                                                                          \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_CMP_MI(kb, op, e, kind, sz)                                                                                \
    UOP_FN(uop_##op##sz##_mi_##kb)                                                                                     \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UTYPE_##sz s, r;                                                                                               \
        UOP_HOST(p, va, r, sz);                                                                                        \
        s = UOP_IMM2(sz);                                                                                              \
        r = (UTYPE_##sz)EXPR_##e(LD_##sz(p), s);                                                                       \
        SETF(kind, sz, r, s);                                                                                          \
        UOP_NEXT_MEM;                                                                                                  \
    }
/* ---- memory op= register, memory op= immediate ---- */
#define DEF_ALU_MR(kb, ka, op, sz)                                                                                     \
    UOP_FN(uop_##op##sz##n_mr_##ka##kb)                                                                                \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UOP_HOST(p, va, m, sz);                                                                                        \
        ST_##sz(p, EXPR_##op(LD_##sz(p), GETS(ka, a, sz)));                                                            \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##f_mr_##ka##kb)                                                                                \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UTYPE_##sz s, r;                                                                                               \
        UOP_HOST(p, va, m, sz);                                                                                        \
        s = GETS(ka, a, sz);                                                                                           \
        r = (UTYPE_##sz)EXPR_##op(LD_##sz(p), s);                                                                      \
        ST_##sz(p, r);                                                                                                 \
        SETF(KIND_##op, sz, r, s);                                                                                     \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_ALU_MI(kb, op, sz)                                                                                         \
    UOP_FN(uop_##op##sz##n_mi_##kb)                                                                                    \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UOP_HOST(p, va, m, sz);                                                                                        \
        ST_##sz(p, EXPR_##op(LD_##sz(p), UOP_IMM2(sz)));                                                               \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    UOP_FN(uop_##op##sz##f_mi_##kb)                                                                                    \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UTYPE_##sz s, r;                                                                                               \
        UOP_HOST(p, va, m, sz);                                                                                        \
        s = UOP_IMM2(sz);                                                                                              \
        r = (UTYPE_##sz)EXPR_##op(LD_##sz(p), s);                                                                      \
        ST_##sz(p, r);                                                                                                 \
        SETF(KIND_##op, sz, r, s);                                                                                     \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_ALU_MEM(op)                                                                                                \
    DEF_ALU_RM(R, R, op, 1) DEF_ALU_RM(R, R, op, 2) EACH_KIND2(DEF_ALU_RM, op, 4) EACH_KIND2(DEF_ALU_RM, op, 8)                          \
    DEF_ALU_MR(R, R, op, 1) DEF_ALU_MR(R, R, op, 2) EACH_KIND2(DEF_ALU_MR, op, 4) EACH_KIND2(DEF_ALU_MR, op, 8)                          \
    EACH_KIND(DEF_ALU_MI, op, 1) EACH_KIND(DEF_ALU_MI, op, 2) EACH_KIND(DEF_ALU_MI, op, 4) EACH_KIND(DEF_ALU_MI, op, 8)
#define DEF_CMP_MEM2(form, op, e, kind)                                                                                \
    EACH_KIND2(form, op, e, kind, 1) EACH_KIND2(form, op, e, kind, 2) EACH_KIND2(form, op, e, kind, 4) EACH_KIND2(form, op, e, kind, 8)
#define DEF_CMP_MEM1(op, e, kind)                                                                                      \
    EACH_KIND(DEF_CMP_MI, op, e, kind, 1) EACH_KIND(DEF_CMP_MI, op, e, kind, 2) EACH_KIND(DEF_CMP_MI, op, e, kind, 4) EACH_KIND(DEF_CMP_MI, op, e, kind, 8)
DEF_ALU_MEM(add)
DEF_ALU_MEM(or)
DEF_ALU_MEM(and)
DEF_ALU_MEM(sub)
DEF_ALU_MEM(xor)
DEF_CMP_MEM2(DEF_CMP_RM, cmp, sub, FLAGK_SUB)
DEF_CMP_MEM2(DEF_CMP_MR, cmp, sub, FLAGK_SUB)
DEF_CMP_MEM2(DEF_CMP_MR, test, and, FLAGK_LOGIC)
DEF_CMP_MEM1(cmp, sub, FLAGK_SUB)
DEF_CMP_MEM1(test, and, FLAGK_LOGIC)

#define TAB_ALU_MEM2(op, form) { { TAB_RR(uop_##op##4n_##form), TAB_RR(uop_##op##4f_##form) }, { TAB_RR(uop_##op##8n_##form), TAB_RR(uop_##op##8f_##form) } }
#define TAB_ALU_MEM2C(op, form) { { uop_##op##1n_##form##_RR, uop_##op##1f_##form##_RR }, { uop_##op##2n_##form##_RR, uop_##op##2f_##form##_RR } }
#define TAB_ALU_MEM1(op) \
    { { TAB_RI(uop_##op##1n_mi), TAB_RI(uop_##op##1f_mi) }, { TAB_RI(uop_##op##2n_mi), TAB_RI(uop_##op##2f_mi) }, { TAB_RI(uop_##op##4n_mi), TAB_RI(uop_##op##4f_mi) }, { TAB_RI(uop_##op##8n_mi), TAB_RI(uop_##op##8f_mi) } }
static int handler_mem_op(unsigned op) /* ORDER the tables below */
{
    return op == OP_ADD ? 0 : op == OP_OR ? 1 : op == OP_AND ? 2 : op == OP_SUB ? 3 : op == OP_XOR ? 4 : -1;
}
static int handler_mem_size(unsigned size) { return size == 1 ? 0 : size == 4 ? 1 : size == 8 ? 2 : -1; }

EMU_PRIV uop_fn handler_alu_rm(unsigned op, unsigned size, bool flags, unsigned ka, unsigned kb)
{
    static const uop_table_rr alu[5][2][2] = { TAB_ALU_MEM2(add, rm), TAB_ALU_MEM2(or, rm), TAB_ALU_MEM2(and, rm), TAB_ALU_MEM2(sub, rm), TAB_ALU_MEM2(xor, rm) };
    static const uop_fn cells[5][2][2] = { TAB_ALU_MEM2C(add, rm), TAB_ALU_MEM2C(or, rm), TAB_ALU_MEM2C(and, rm), TAB_ALU_MEM2C(sub, rm), TAB_ALU_MEM2C(xor, rm) };
    static const uop_table_rr cmp[4] = { TAB_RR(uop_cmp1_rm), TAB_RR(uop_cmp2_rm), TAB_RR(uop_cmp4_rm), TAB_RR(uop_cmp8_rm) };
    int o = handler_mem_op(op);
    if (op == OP_CMP)
        return cmp[size == 8 ? 3 : size >> 1][ka * UOP_KINDS + kb];
    if (o < 0)
        return NULL;
    return size < 4 ? cells[o][size == 2][flags] : alu[o][size == 8][flags][ka * UOP_KINDS + kb];
}
EMU_PRIV uop_fn handler_alu_mr(unsigned op, unsigned size, bool flags, unsigned ka, unsigned kb)
{
    static const uop_table_rr alu[5][2][2] = { TAB_ALU_MEM2(add, mr), TAB_ALU_MEM2(or, mr), TAB_ALU_MEM2(and, mr), TAB_ALU_MEM2(sub, mr), TAB_ALU_MEM2(xor, mr) };
    static const uop_fn cells[5][2][2] = { TAB_ALU_MEM2C(add, mr), TAB_ALU_MEM2C(or, mr), TAB_ALU_MEM2C(and, mr), TAB_ALU_MEM2C(sub, mr), TAB_ALU_MEM2C(xor, mr) };
    static const uop_table_rr cmp[2][4] = {
        { TAB_RR(uop_cmp1_mr), TAB_RR(uop_cmp2_mr), TAB_RR(uop_cmp4_mr), TAB_RR(uop_cmp8_mr) },
        { TAB_RR(uop_test1_mr), TAB_RR(uop_test2_mr), TAB_RR(uop_test4_mr), TAB_RR(uop_test8_mr) }
    };
    int o = handler_mem_op(op);
    if (op == OP_CMP || op == OP_TEST)
        return cmp[op == OP_TEST][size == 8 ? 3 : size >> 1][ka * UOP_KINDS + kb];
    if (o < 0)
        return NULL;
    return size < 4 ? cells[o][size == 2][flags] : alu[o][size == 8][flags][ka * UOP_KINDS + kb];
}
EMU_PRIV uop_fn handler_alu_mi(unsigned op, unsigned size, bool flags, unsigned kb)
{
    static const uop_table_ri alu[5][4][2] = { TAB_ALU_MEM1(add), TAB_ALU_MEM1(or), TAB_ALU_MEM1(and), TAB_ALU_MEM1(sub), TAB_ALU_MEM1(xor) };
    static const uop_table_ri cmp[2][4] = {
        { TAB_RI(uop_cmp1_mi), TAB_RI(uop_cmp2_mi), TAB_RI(uop_cmp4_mi), TAB_RI(uop_cmp8_mi) },
        { TAB_RI(uop_test1_mi), TAB_RI(uop_test2_mi), TAB_RI(uop_test4_mi), TAB_RI(uop_test8_mi) }
    };
    int o = handler_mem_op(op), s = size == 8 ? 3 : (int)size >> 1;
    if (op == OP_CMP || op == OP_TEST)
        return cmp[op == OP_TEST][size == 8 ? 3 : size >> 1][kb];
    return o < 0 ? NULL : alu[o][s][flags][kb];
}

/* ---- INC, DEC, NEG, NOT in memory, flags recorded ---- */
#define DEF_UNARY_M(kb, op, sz, expr, record)                                                                          \
    UOP_FN(uop_##op##sz##_m_##kb)                                                                                      \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UTYPE_##sz d, r;                                                                                               \
        UOP_HOST(p, va, m, sz);                                                                                        \
        d = LD_##sz(p);                                                                                                \
        r = (UTYPE_##sz)(expr);                                                                                        \
        record(sz, r, d);                                                                                              \
        ST_##sz(p, r);                                                                                                 \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define REC_INC(sz, r, d) SETF(FLAGK_INC, sz, r, cpu_flag_carry(c))
#define REC_DEC(sz, r, d) SETF(FLAGK_DEC, sz, r, cpu_flag_carry(c))
#define REC_NEG(sz, r, d) SETF(FLAGK_SUB, sz, r, d)
#define REC_NOT(sz, r, d) (void)0
#define DEF_UNARIES_M(op, expr, rec) EACH_KIND(DEF_UNARY_M, op, 1, expr, rec) EACH_KIND(DEF_UNARY_M, op, 4, expr, rec) EACH_KIND(DEF_UNARY_M, op, 8, expr, rec)
DEF_UNARIES_M(inc, d + 1u, REC_INC)
DEF_UNARIES_M(dec, d - 1u, REC_DEC)
DEF_UNARIES_M(neg, 0u - d, REC_NEG)
DEF_UNARIES_M(not, ~d, REC_NOT)
EMU_PRIV uop_fn handler_unary_m(unsigned op, unsigned size, unsigned kb)
{
    static const uop_table_ri t[4][3] = { { TAB_RI(uop_inc1_m), TAB_RI(uop_inc4_m), TAB_RI(uop_inc8_m) }, { TAB_RI(uop_dec1_m), TAB_RI(uop_dec4_m), TAB_RI(uop_dec8_m) },
                                          { TAB_RI(uop_neg1_m), TAB_RI(uop_neg4_m), TAB_RI(uop_neg8_m) }, { TAB_RI(uop_not1_m), TAB_RI(uop_not4_m), TAB_RI(uop_not8_m) } };
    int s = handler_mem_size(size);
    return s < 0 ? NULL : t[op - OP_INC][s][kb];
}

#define DEF_XCHG_M(kb, ka, sz)                                                                                         \
    UOP_FN(uop_xchg##sz##_m_##ka##kb)                                                                                  \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        uint8_t *p;                                                                                                    \
        UTYPE_##sz d;                                                                                                  \
        UOP_HOST(p, va, m, sz);                                                                                        \
        d = LD_##sz(p);                                                                                                \
        ST_##sz(p, GETS(ka, a, sz));                                                                                   \
        PUTS_##sz(ka, a, d);                                                                                           \
        UOP_NEXT_MEM;                                                                                                  \
    }
EACH_KIND2(DEF_XCHG_M, 1)
EACH_KIND2(DEF_XCHG_M, 4)
EACH_KIND2(DEF_XCHG_M, 8)
EMU_PRIV uop_fn handler_xchg_m(unsigned size, unsigned ka, unsigned kb)
{
    static const uop_table_rr t[3] = { TAB_RR(uop_xchg1_m), TAB_RR(uop_xchg4_m), TAB_RR(uop_xchg8_m) };
    int s = handler_mem_size(size);
    return s < 0 ? NULL : t[s][ka * UOP_KINDS + kb];
}

/* ---- XADD, CMPXCHG: CMPXCHG writes in any case ---- */
#define DEF_EXCHANGE_M(sz)                                                                                             \
    UOP_FN(uop_xadd##sz##_m)                                                                                           \
    {                                                                                                                  \
        uint64_t va = VA_B(R);                                                                                         \
        uint8_t *p;                                                                                                    \
        UTYPE_##sz d, s, r;                                                                                            \
        UOP_HOST(p, va, m, sz);                                                                                        \
        d = LD_##sz(p);                                                                                                \
        s = GETS(R, a, sz);                                                                                            \
        r = (UTYPE_##sz)(d + s);                                                                                       \
        ST_##sz(p, r);                                                                                                 \
        PUTS_##sz(R, a, d);                                                                                            \
        SETF(FLAGK_ADD, sz, r, s);                                                                                     \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    UOP_FN(uop_cmpxchg##sz##_m)                                                                                        \
    {                                                                                                                  \
        uint64_t va = VA_B(R);                                                                                         \
        uint8_t *p;                                                                                                    \
        UTYPE_##sz d, accumulator = GETS(R, x, sz);                                                                    \
        UOP_HOST(p, va, m, sz);                                                                                        \
        d = LD_##sz(p);                                                                                                \
        ST_##sz(p, accumulator == d ? GETS(R, a, sz) : d);                                                             \
        if (accumulator != d)                                                                                          \
            UOP_CELL(u->x) = d;                                                                                        \
        SETF(FLAGK_SUB, sz, (UTYPE_##sz)(accumulator - d), d);                                                         \
        UOP_NEXT_MEM;                                                                                                  \
    }
DEF_EXCHANGE_M(4)
DEF_EXCHANGE_M(8)
EMU_PRIV uop_fn handler_exchange_m(unsigned op, unsigned size)
{
    if (size < 4)
        return NULL;
    return op == OP_XADD ? (size == 4 ? uop_xadd4_m : uop_xadd8_m) : size == 4 ? uop_cmpxchg4_m : uop_cmpxchg8_m;
}

/* ---- BT, BTS, BTR, BTC: the index, signed, from a cell reaches beyond the operand ---- */
#define DEF_BIT_M(op, sz, log, rw, store)                                                                              \
    UOP_FN(uop_##op##sz##_m)                                                                                           \
    {                                                                                                                  \
        uint64_t n = UOP_SX(UOP_CELL(u->a), sz), va = VA_B(R) + sar64(n, log) * sz;                                    \
        uint8_t *p;                                                                                                    \
        UTYPE_##sz d, bit = (UTYPE_##sz)((UTYPE_##sz)1 << (n & (8 * sz - 1)));                                         \
        UOP_HOST(p, va, rw, sz);                                                                                       \
        d = LD_##sz(p);                                                                                                \
        store;                                                                                                         \
        c->flag_kind = FLAGK_RESULT; /* CF is all that will be read */                                                 \
        c->flag_source = (d & bit) != 0;                                                                               \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_BITS_M(sz, log)                                                                                            \
    DEF_BIT_M(bt, sz, log, r, (void)0)                                                                                 \
    DEF_BIT_M(bts, sz, log, m, ST_##sz(p, d | bit))                                                                    \
    DEF_BIT_M(btr, sz, log, m, ST_##sz(p, d & (UTYPE_##sz)~bit))                                                       \
    DEF_BIT_M(btc, sz, log, m, ST_##sz(p, d ^ bit))
DEF_BITS_M(4, 5)
DEF_BITS_M(8, 6)
EMU_PRIV uop_fn handler_bits_m(unsigned op, unsigned size)
{
    static const uop_fn t[2][4] = { { uop_bt4_m, uop_bts4_m, uop_btr4_m, uop_btc4_m }, { uop_bt8_m, uop_bts8_m, uop_btr8_m, uop_btc8_m } }; /* ORDER int_op */
    return size < 4 ? NULL : t[size == 8][op - OP_BT];
}

/* ---- CMP or TEST memory, immediate and Jcc in one ---- */
#define FCM_e(sz, d, s) ((d) == (s))
#define FCM_ne(sz, d, s) ((d) != (s))
#define FCM_b(sz, d, s) ((d) < (s))
#define FCM_ae(sz, d, s) ((d) >= (s))
#define FCM_be(sz, d, s) ((d) <= (s))
#define FCM_a(sz, d, s) ((d) > (s))
#define FCM_l(sz, d, s) ((STYPE_##sz)(d) < (STYPE_##sz)(s))
#define FCM_ge(sz, d, s) ((STYPE_##sz)(d) >= (STYPE_##sz)(s))
#define FCM_le(sz, d, s) ((STYPE_##sz)(d) <= (STYPE_##sz)(s))
#define FCM_g(sz, d, s) ((STYPE_##sz)(d) > (STYPE_##sz)(s))
#define DEF_CMP_MI_JCC(kb, cc, sz)                                                                                     \
    UOP_FN(uop_jcmpm##sz##n_##cc##_##kb)                                                                               \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UTYPE_##sz d, s;                                                                                               \
        UOP_HOST(p, va, r, sz);                                                                                        \
        d = LD_##sz(p);                                                                                                \
        s = UOP_IMM_AX(sz);                                                                                            \
        if (FCM_##cc(sz, d, s))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    UOP_FN(uop_jcmpm##sz##f_##cc##_##kb)                                                                               \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UTYPE_##sz d, s;                                                                                               \
        UOP_HOST(p, va, r, sz);                                                                                        \
        d = LD_##sz(p);                                                                                                \
        s = UOP_IMM_AX(sz);                                                                                            \
        SETF(FLAGK_SUB, sz, (UTYPE_##sz)(d - s), s);                                                                   \
        if (FCM_##cc(sz, d, s))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_TEST_MI_JCC(kb, cc, cmp, sz)                                                                               \
    UOP_FN(uop_jtestm##sz##n_##cc##_##kb)                                                                              \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UOP_HOST(p, va, r, sz);                                                                                        \
        if ((UTYPE_##sz)(LD_##sz(p) & UOP_IMM_AX(sz)) cmp 0)                                                           \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    UOP_FN(uop_jtestm##sz##f_##cc##_##kb)                                                                              \
    {                                                                                                                  \
        uint64_t va = VA_B(kb);                                                                                        \
        const uint8_t *p;                                                                                              \
        UTYPE_##sz r;                                                                                                  \
        UOP_HOST(p, va, r, sz);                                                                                        \
        r = (UTYPE_##sz)(LD_##sz(p) & UOP_IMM_AX(sz));                                                                 \
        SETF(FLAGK_LOGIC, sz, r, 0);                                                                                   \
        if (r cmp 0)                                                                                                   \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT_MEM;                                                                                                  \
    }
#define DEF_CMP_MI_JCCS(cc) EACH_KIND(DEF_CMP_MI_JCC, cc, 1) EACH_KIND(DEF_CMP_MI_JCC, cc, 4) EACH_KIND(DEF_CMP_MI_JCC, cc, 8)
DEF_CMP_MI_JCCS(e)
DEF_CMP_MI_JCCS(ne)
DEF_CMP_MI_JCCS(b)
DEF_CMP_MI_JCCS(ae)
DEF_CMP_MI_JCCS(be)
DEF_CMP_MI_JCCS(a)
DEF_CMP_MI_JCCS(l)
DEF_CMP_MI_JCCS(ge)
DEF_CMP_MI_JCCS(le)
DEF_CMP_MI_JCCS(g)
EACH_KIND(DEF_TEST_MI_JCC, e, ==, 1)
EACH_KIND(DEF_TEST_MI_JCC, ne, !=, 1)
EACH_KIND(DEF_TEST_MI_JCC, e, ==, 4)
EACH_KIND(DEF_TEST_MI_JCC, ne, !=, 4)
#define NAME_CC(k, stem) stem##_##k,
#define TAB_CC(stem) { EACH_KIND(NAME_CC, stem) }
#define TAB_CMP_MI(cc) \
    { { TAB_CC(uop_jcmpm1n_##cc), TAB_CC(uop_jcmpm1f_##cc) }, { TAB_CC(uop_jcmpm4n_##cc), TAB_CC(uop_jcmpm4f_##cc) }, { TAB_CC(uop_jcmpm8n_##cc), TAB_CC(uop_jcmpm8f_##cc) } }
EMU_PRIV uop_fn handler_cmp_mi_jcc(unsigned op, unsigned size, bool flags, unsigned cc, unsigned kb)
{
    static const uop_table_ri cmp[10][3][2] = { TAB_CMP_MI(b), TAB_CMP_MI(ae), TAB_CMP_MI(e), TAB_CMP_MI(ne), TAB_CMP_MI(be), TAB_CMP_MI(a),
                                                TAB_CMP_MI(l), TAB_CMP_MI(ge), TAB_CMP_MI(le), TAB_CMP_MI(g) };
    static const uop_table_ri test[2][2][2] = {
        { { TAB_CC(uop_jtestm1n_e), TAB_CC(uop_jtestm1f_e) }, { TAB_CC(uop_jtestm4n_e), TAB_CC(uop_jtestm4f_e) } },
        { { TAB_CC(uop_jtestm1n_ne), TAB_CC(uop_jtestm1f_ne) }, { TAB_CC(uop_jtestm4n_ne), TAB_CC(uop_jtestm4f_ne) } }
    };
    int s = handler_mem_size(size), k = cc >= 2 && cc <= 7 ? (int)cc - 2 : cc >= 12 ? (int)cc - 6 : -1;
    if (s < 0)
        return NULL;
    if (op == OP_TEST)
        return (cc == 4 || cc == 5) && s < 2 ? test[cc - 4][s][flags][kb] : NULL;
    return k < 0 ? NULL : cmp[k][s][flags][kb];
}

/* ---- stack; RSP is never a slot ---- */
#define UOP_RSP c->gpr[GPR_RSP]
#define DEF_PUSH_POP(suffix, ka, sz, cut, on)                                                                          \
    UOP_FN(uop_push##sz##_##suffix)                                                                                    \
    {                                                                                                                  \
        uint64_t va = cut(UOP_RSP - sz);                                                                               \
        uint8_t *p;                                                                                                    \
        UOP_HOST(p, va, w, sz);                                                                                        \
        ST_##sz(p, GET(ka, a));                                                                                        \
        UOP_RSP = va;                                                                                                  \
        on;                                                                                                            \
    }                                                                                                                  \
    UOP_FN(uop_pop##sz##_##suffix)                                                                                     \
    {                                                                                                                  \
        uint64_t va = cut(UOP_RSP), v;                                                                                 \
        const uint8_t *p;                                                                                              \
        UOP_HOST(p, va, r, sz);                                                                                        \
        v = LD_##sz(p);                                                                                                \
        UOP_RSP = cut(va + sz);                                                                                        \
        PUT(ka, a, v);                                                                                                 \
        on;                                                                                                            \
    }
#define DEF_PUSH(ka, sz, cut) DEF_PUSH_POP(ka, ka, sz, cut, UOP_NEXT_MEM)
EACH_KIND(DEF_PUSH, 8, (uint64_t))
EACH_KIND(DEF_PUSH, 4, (uint32_t))
#define DEF_PUSH_I(sz, cut)                                                                                            \
    UOP_FN(uop_pushi##sz)                                                                                              \
    {                                                                                                                  \
        uint64_t va = cut(UOP_RSP - sz);                                                                               \
        uint8_t *p;                                                                                                    \
        UOP_HOST(p, va, w, sz);                                                                                        \
        ST_##sz(p, UOP_IMM2(sz));                                                                                      \
        UOP_RSP = va;                                                                                                  \
        UOP_NEXT_MEM;                                                                                                  \
    }
DEF_PUSH_I(8, (uint64_t))
DEF_PUSH_I(4, (uint32_t))
EMU_PRIV uop_fn handler_push(unsigned size, unsigned ka)
{
    static const uop_table_ri t[2] = { TAB_RI(uop_push4), TAB_RI(uop_push8) };
    return t[size == 8][ka];
}
EMU_PRIV uop_fn handler_push_imm(unsigned size) { return size == 8 ? uop_pushi8 : uop_pushi4; }
EMU_PRIV uop_fn handler_pop(unsigned size, unsigned ka)
{
    static const uop_table_ri t[2] = { TAB_RI(uop_pop4), TAB_RI(uop_pop8) };
    return t[size == 8][ka];
}
/* Runs of PUSH or POP under one check. The uops stay as they are and each has its instruction; the first also knows the others' cells and goes
 * past them, but where the page does not hold them all it does its own part only. */
#define RUN_CELL1 UOP_CELL(u->a)
#define RUN_CELL2 UOP_CELL(u->b)
#define RUN_CELL3 UOP_CELL(u->x)
#define RUN_CELL4 UOP_CELL((uint16_t)u->disp)
#define RUN_CELL5 UOP_CELL((uint16_t)((uint32_t)u->disp >> 16))
#define RUN_CELL6 UOP_CELL(UOP_PAGE(u)->cell)
#define PUSH_1(n) st64le(p + 8 * (n) - 8, RUN_CELL1)
#define PUSH_2(n) PUSH_1(n), st64le(p + 8 * (n) - 16, RUN_CELL2)
#define PUSH_3(n) PUSH_2(n), st64le(p + 8 * (n) - 24, RUN_CELL3)
#define PUSH_4(n) PUSH_3(n), st64le(p + 8 * (n) - 32, RUN_CELL4)
#define PUSH_5(n) PUSH_4(n), st64le(p + 8 * (n) - 40, RUN_CELL5)
#define PUSH_6(n) PUSH_5(n), st64le(p + 8 * (n) - 48, RUN_CELL6)
#define POP_1 RUN_CELL1 = ld64le(p)
#define POP_2 POP_1, RUN_CELL2 = ld64le(p + 8)
#define POP_3 POP_2, RUN_CELL3 = ld64le(p + 16)
#define POP_4 POP_3, RUN_CELL4 = ld64le(p + 24)
#define POP_5 POP_4, RUN_CELL5 = ld64le(p + 32)
#define POP_6 POP_5, RUN_CELL6 = ld64le(p + 40)
DEF_PUSH_POP(alone, R, 8, (uint64_t), UOP_AT(UOP_PAGE(u + 2)->v.self, u + 2)) /* `next` is what comes after the run */
#define DEF_STACK_RUN(n)                                                                                               \
    UOP_FN(uop_push8x##n)                                                                                              \
    {                                                                                                                  \
        uint64_t va = UOP_RSP - 8 * (n);                                                                               \
        uint8_t *p;                                                                                                    \
        if (UOP_MISSES(va, 8 * (n)))                                                                                   \
            UOP_TAIL(uop_push8_alone);                                                                                 \
        p = (uint8_t *)(uintptr_t)((uintptr_t)va + UOP_PAGE(u)->addend);                                               \
        PUSH_##n(n);                                                                                                   \
        UOP_RSP = va;                                                                                                  \
        UOP_ON(2 * (n));                                                                                               \
    }                                                                                                                  \
    UOP_FN(uop_pop8x##n)                                                                                               \
    {                                                                                                                  \
        uint64_t va = UOP_RSP;                                                                                         \
        const uint8_t *p;                                                                                              \
        if (UOP_MISSES(va, 8 * (n)))                                                                                   \
            UOP_TAIL(uop_pop8_alone);                                                                                  \
        p = (uint8_t *)(uintptr_t)((uintptr_t)va + UOP_PAGE(u)->addend);                                               \
        POP_##n;                                                                                                       \
        UOP_RSP = va + 8 * (n);                                                                                        \
        UOP_ON(2 * (n));                                                                                               \
    }
DEF_STACK_RUN(2)
DEF_STACK_RUN(3)
DEF_STACK_RUN(4)
DEF_STACK_RUN(5)
DEF_STACK_RUN(6)
EMU_PRIV uop_fn handler_stack_run(unsigned kind, unsigned count)
{
    static const uop_fn push[STACK_RUN_MAX] = { uop_push8_R, uop_push8x2, uop_push8x3, uop_push8x4, uop_push8x5, uop_push8x6 };
    static const uop_fn pop[STACK_RUN_MAX] = { uop_pop8_R, uop_pop8x2, uop_pop8x3, uop_pop8x4, uop_pop8x5, uop_pop8x6 };
    return kind == STACK_RUN_PUSH ? push[count - 1] : pop[count - 1];
}
UOP_FN(uop_leave8)
{
    uint64_t va = c->gpr[GPR_RBP], v;
    const uint8_t *p;
    UOP_HOST(p, va, r, 8);
    v = ld64le(p);
    UOP_RSP = va + 8;
    c->gpr[GPR_RBP] = v;
    UOP_NEXT_MEM;
}
EMU_PRIV uop_fn handler_leave(void) { return uop_leave8; }

/* ---- CALL and RET of 64-bit mode; u->disp: offset of the return address in the page ---- */
UOP_FN(uop_call8)
{
    uint64_t va = UOP_RSP - 8, back;
    uint8_t *p;
    if (UOP_MISSES(va, 8)) {
        c->miss_va = va;
        UOP_TAIL(uop_miss_call);
    }
    p = (uint8_t *)(uintptr_t)((uintptr_t)va + UOP_PAGE(u)->addend);
    back = c->code_base + (uint64_t)(int64_t)u->disp;
    st64le(p, back);
    UOP_RSP = va;
    UOP_PUSH_RETURN(back);
    UOP_EXIT_FAR;
}
#define DEF_CALL_REG(ka, unused)                                                                                       \
    UOP_FN(uop_callr8_##ka)                                                                                            \
    {                                                                                                                  \
        uint64_t va = UOP_RSP - 8, target = GET(ka, a), back;                                                          \
        struct uop_jump *j = UOP_JUMP_ENTRY(target);                                                                   \
        uint8_t *p;                                                                                                    \
        if (UOP_MISSES(va, 8) || EMU_UNLIKELY(!UOP_JUMP_HIT(j, target))) {                                             \
            c->miss_va = va;                                                                                           \
            c->gpr[GPR_TEMP] = target;                                                                                 \
            UOP_TAIL(uop_miss_call_reg);                                                                               \
        }                                                                                                              \
        p = (uint8_t *)(uintptr_t)((uintptr_t)va + UOP_PAGE(u)->addend);                                               \
        back = c->code_base + (uint64_t)(int64_t)u->disp;                                                              \
        st64le(p, back);                                                                                               \
        UOP_RSP = va;                                                                                                  \
        UOP_PUSH_RETURN(back);                                                                                         \
        UOP_JUMP_TO(j, target);                                                                                        \
    }
EACH_KIND(DEF_CALL_REG, 0)
/* RET n: n in v.imm. Mostly it ends the latest CALL, which has said where that leads; else the jump cache knows, and the CALL, if it
 * was the right one, learns it. */
UOP_FN_PRIV(uop_ret8_jump)
{
    const struct uop_return *back = &c->returns[c->return_top];
    uint64_t va = UOP_RSP, target;
    const uint8_t *p;
    struct uop_jump *j;
    UOP_HOST(p, va, r, 8);
    target = ld64le(p);
    j = UOP_JUMP_ENTRY(target);
    if (EMU_UNLIKELY(!UOP_JUMP_HIT(j, target))) {
        c->gpr[GPR_TEMP] = target;
        UOP_TAIL(uop_indirect_miss);
    }
    UOP_RSP = va + 8 + u->v.imm;
    c->return_top = (c->return_top - 1) & (CPU_RETURNS - 1u);
    if (back->rip == target && !back->u && back->call->scale && back->key == c->mode_key && back->generation == c->code_generation)
        trace_link_return(c, back->call, target);
    UOP_JUMP_TO(j, target);
}
UOP_FN(uop_ret8)
{
    const struct uop_return *back = &c->returns[c->return_top];
    uint64_t va = UOP_RSP, target;
    const uint8_t *p;
    UOP_HOST(p, va, r, 8);
    target = ld64le(p);
    if (EMU_UNLIKELY(back->rip != target || !back->u || back->key != c->mode_key || back->generation != c->code_generation))
        UOP_TAIL(uop_ret8_jump);
    c->return_top = (c->return_top - 1) & (CPU_RETURNS - 1u);
    UOP_RSP = va + 8 + u->v.imm;
    UOP_JUMP_TO(back, target);
}
EMU_PRIV uop_fn handler_call(void) { return uop_call8; }
EMU_PRIV uop_fn handler_call_reg(unsigned ka)
{
    static const uop_table_ri t = TAB_RI(uop_callr8);
    return t[ka];
}
EMU_PRIV uop_fn handler_ret(void) { return uop_ret8; }

/* ---- vectors: memory into vtmp[0], low bytes of a vector cell into memory ---- */
#define DEF_VEC_LOAD(sz, code)                                                                                         \
    UOP_FN(uop_vld##sz)                                                                                                \
    {                                                                                                                  \
        uint64_t va = VA_B(R);                                                                                         \
        const uint8_t *p;                                                                                              \
        if (EMU_UNLIKELY(va & u->scale))                                                                               \
            UOP_TAIL(uop_misaligned);                                                                                  \
        UOP_HOST(p, va, r, sz);                                                                                        \
        c->vtmp[0].q[1] = 0;                                                                                           \
        code;                                                                                                          \
        UOP_NEXT_MEM;                                                                                                  \
    }
DEF_VEC_LOAD(1, c->vtmp[0].q[0] = ld8(p))
DEF_VEC_LOAD(2, c->vtmp[0].q[0] = ld16le(p))
DEF_VEC_LOAD(4, c->vtmp[0].q[0] = ld32le(p))
DEF_VEC_LOAD(8, c->vtmp[0].q[0] = ld64le(p))
DEF_VEC_LOAD(16, vec_load16(&c->vtmp[0], p))
#define DEF_VEC_STORE(sz, code)                                                                                        \
    UOP_FN(uop_vst##sz)                                                                                                \
    {                                                                                                                  \
        uint64_t va = VA_B(R);                                                                                         \
        uint8_t *p;                                                                                                    \
        if (EMU_UNLIKELY(va & u->scale))                                                                               \
            UOP_TAIL(uop_misaligned);                                                                                  \
        UOP_HOST(p, va, w, sz);                                                                                        \
        code;                                                                                                          \
        UOP_NEXT_MEM;                                                                                                  \
    }
DEF_VEC_STORE(1, st8(p, (uint8_t)UOP_XMM(u->a)->q[0]))
DEF_VEC_STORE(2, st16le(p, (uint16_t)UOP_XMM(u->a)->q[0]))
DEF_VEC_STORE(4, st32le(p, (uint32_t)UOP_XMM(u->a)->q[0]))
DEF_VEC_STORE(8, st64le(p, UOP_XMM(u->a)->q[0]))
DEF_VEC_STORE(16, vec_store16(p, UOP_XMM(u->a)))
EMU_PRIV uop_fn handler_vec_load(unsigned size)
{
    return size == 1 ? uop_vld1 : size == 2 ? uop_vld2 : size == 4 ? uop_vld4 : size == 8 ? uop_vld8 : uop_vld16;
}
EMU_PRIV uop_fn handler_vec_store(unsigned size)
{
    return size == 1 ? uop_vst1 : size == 2 ? uop_vst2 : size == 4 ? uop_vst4 : size == 8 ? uop_vst8 : uop_vst16;
}
#undef LD_1
#undef LD_2
#undef LD_4
#undef LD_8
#undef ST_1
#undef ST_2
#undef ST_4
#undef ST_8
