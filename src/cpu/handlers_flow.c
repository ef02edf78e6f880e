/* cpu/handlers_flow.c - handlers that branch or leave the traces, and the slow ways of memory uops.
 *
 * Contract   uop_enter() runs traces until one of them leaves; run.c looks at what is left in struct cpu: rip and budget are exact, and
 *            leave_fault   an instruction faulted (cpu->fault), rip is its address
 *            leave_stub    a link was to be taken that leads nowhere yet
 *            promote       a tier-1 trace has run often enough
 * Theory     Exits subtract the instructions retired since the trace's head from cpu->budget; below 0 the traces are left. cpu_kick() takes the
 *            budget away, so that the same test serves interrupts.
 *
 *            A memory uop that misses its page: [uop_miss_*] -> page filled -> the same uop again
 *                                                           -> I/O, crossing, watched, code: the uop's copy on c->bounce -> [uop_commit] -> on
 *                                                           -> fault: out
 * Invariants 1. A slow store has been checked for faults before the uop's copy runs, so that it cannot fail afterwards.
 *            2. A store that hit cached code leaves at the end of its instruction.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

/* ---- conditions on recorded flags. RES: any kind but BITS. ORDER handler_condition_index ---- */
#define FLOW_R c->flag_result
#define FLOW_S c->flag_source
#define FLOW_D(sz) ((UTYPE_##sz)(FLOW_R + FLOW_S))
#define FLOW_SS(sz) ((UTYPE_##sz)FLOW_S)
#define FLOW_SUB(M, sz)                                                                                                \
    M(sub##sz##_b, FLOW_D(sz) < FLOW_SS(sz)) M(sub##sz##_ae, FLOW_D(sz) >= FLOW_SS(sz))                                \
    M(sub##sz##_be, FLOW_D(sz) <= FLOW_SS(sz)) M(sub##sz##_a, FLOW_D(sz) > FLOW_SS(sz))                                \
    M(sub##sz##_l, (STYPE_##sz)FLOW_D(sz) < (STYPE_##sz)FLOW_S) M(sub##sz##_ge, (STYPE_##sz)FLOW_D(sz) >= (STYPE_##sz)FLOW_S) \
    M(sub##sz##_le, (STYPE_##sz)FLOW_D(sz) <= (STYPE_##sz)FLOW_S) M(sub##sz##_g, (STYPE_##sz)FLOW_D(sz) > (STYPE_##sz)FLOW_S)
#define EACH_CONDITION(M)                                                                                              \
    M(res_e, FLOW_R == 0) M(res_ne, FLOW_R != 0) M(res_s, FLOW_R >> 63) M(res_ns, !(FLOW_R >> 63))                     \
    FLOW_SUB(M, 1) FLOW_SUB(M, 2) FLOW_SUB(M, 4) FLOW_SUB(M, 8)                                                        \
    M(logic_le, (int64_t)FLOW_R <= 0) M(logic_g, (int64_t)FLOW_R > 0)                                                  \
    M(add4_b, (uint32_t)FLOW_R < (uint32_t)FLOW_S) M(add4_ae, (uint32_t)FLOW_R >= (uint32_t)FLOW_S)                    \
    M(add8_b, FLOW_R < FLOW_S) M(add8_ae, FLOW_R >= FLOW_S)                                                            \
    M(result_b, FLOW_S & FLAG_CF) M(result_ae, !(FLOW_S & FLAG_CF))                                                    \
    M(any, cpu_condition(c, u->misc))
#define DEF_CONDITION(name, expr)                                                                                      \
    UOP_FN(uop_jc_##name)                                                                                              \
    {                                                                                                                  \
        if (expr)                                                                                                      \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_cond_##name)                                                                                            \
    {                                                                                                                  \
        c->gpr[GPR_TEMP] = (expr) ? 1 : 0;                                                                             \
        UOP_NEXT;                                                                                                      \
    }
EACH_CONDITION(DEF_CONDITION)
#define NAME_JC(name, expr) uop_jc_##name,
#define NAME_COND(name, expr) uop_cond_##name,

static unsigned handler_condition_index(unsigned kind, unsigned cc)
{
    enum { RES = 0, SUB = 4, LOGIC = 36, ADD4 = 38, ADD8 = 40, RESULT = 42, ANY = 44 };
    unsigned group = kind & ~3u, size = kind & 3;
    if (kind >= FLAGK_END || kind < 4)
        return ANY;
    if ((cc & ~1u) == 4)
        return RES + (cc & 1);
    if ((cc & ~1u) == 8)
        return RES + 2 + (cc & 1);
    switch (group) {
    case FLAGK_SUB:
        if (cc == 2 || cc == 3)
            return SUB + size * 8 + (cc - 2);
        if (cc == 6 || cc == 7)
            return SUB + size * 8 + 2 + (cc - 6);
        if (cc >= 12)
            return SUB + size * 8 + 4 + (cc - 12);
        break;
    case FLAGK_LOGIC:
        if (cc == 6 || cc == 7) /* CF = 0 */
            return RES + (cc & 1);
        if (cc == 12 || cc == 13) /* OF = 0 */
            return RES + 2 + (cc & 1);
        if (cc >= 14)
            return LOGIC + (cc & 1);
        break;
    case FLAGK_ADD:
        if ((cc == 2 || cc == 3) && size >= 2)
            return (size == 2 ? ADD4 : ADD8) + (cc & 1);
        break;
    case FLAGK_RESULT: case FLAGK_INC: case FLAGK_DEC:
        if (cc == 2 || cc == 3)
            return RESULT + (cc & 1);
        break;
    default: break;
    }
    return ANY;
}
EMU_PRIV uop_fn handler_jcc(unsigned kind, unsigned cc)
{
    static const uop_fn t[] = { EACH_CONDITION(NAME_JC) };
    return t[handler_condition_index(kind, cc)];
}
EMU_PRIV uop_fn handler_cond(unsigned kind, unsigned cc)
{
    static const uop_fn t[] = { EACH_CONDITION(NAME_COND) };
    return t[handler_condition_index(kind, cc)];
}

/* ---- compare and branch in one ---- */
#define FCC_b(sz, d, s) ((d) < (s))
#define FCC_ae(sz, d, s) ((d) >= (s))
#define FCC_e(sz, d, s) ((d) == (s))
#define FCC_ne(sz, d, s) ((d) != (s))
#define FCC_be(sz, d, s) ((d) <= (s))
#define FCC_a(sz, d, s) ((d) > (s))
#define FCC_l(sz, d, s) ((STYPE_##sz)(d) < (STYPE_##sz)(s))
#define FCC_ge(sz, d, s) ((STYPE_##sz)(d) >= (STYPE_##sz)(s))
#define FCC_le(sz, d, s) ((STYPE_##sz)(d) <= (STYPE_##sz)(s))
#define FCC_g(sz, d, s) ((STYPE_##sz)(d) > (STYPE_##sz)(s))
#define FCC_s(sz, d, s) ((STYPE_##sz)((d) - (s)) < 0)
#define FCC_ns(sz, d, s) ((STYPE_##sz)((d) - (s)) >= 0)
#define DEF_JCMP_RR(kb, ka, cc, sz)                                                                                    \
    UOP_FN(uop_jcmp##sz##n_rr_##cc##_##ka##kb)                                                                         \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), s = GETS(kb, b, sz);                                                           \
        if (FCC_##cc(sz, d, s))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_jcmp##sz##f_rr_##cc##_##ka##kb)                                                                         \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), s = GETS(kb, b, sz);                                                           \
        SETF(FLAGK_SUB, sz, (UTYPE_##sz)(d - s), s);                                                                   \
        if (FCC_##cc(sz, d, s))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_JCMP_RI(ka, cc, sz)                                                                                        \
    UOP_FN(uop_jcmp##sz##n_ri_##cc##_##ka)                                                                             \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), s = (UTYPE_##sz)UOP_IMM;                                                       \
        if (FCC_##cc(sz, d, s))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_jcmp##sz##f_ri_##cc##_##ka)                                                                             \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz), s = (UTYPE_##sz)UOP_IMM;                                                       \
        SETF(FLAGK_SUB, sz, (UTYPE_##sz)(d - s), s);                                                                   \
        if (FCC_##cc(sz, d, s))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }
/* TEST r, r: e ne s ns le g */
#define DEF_JTEST(ka, cc, sz)                                                                                          \
    UOP_FN(uop_jtst##sz##n_##cc##_##ka)                                                                               \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz);                                                                                \
        if (FCC_##cc(sz, d, 0))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_jtst##sz##f_##cc##_##ka)                                                                               \
    {                                                                                                                  \
        UTYPE_##sz d = GETS(ka, a, sz);                                                                                \
        SETF(FLAGK_LOGIC, sz, d, 0);                                                                                   \
        if (FCC_##cc(sz, d, 0))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }
/* ADD SUB AND TEST with an immediate: e ne */
#define DEF_JALU(ka, op, ex, kind, write, cc, sz)                                                                       \
    UOP_FN(uop_j##op##sz##n_##cc##_##ka)                                                                               \
    {                                                                                                                  \
        UTYPE_##sz r = (UTYPE_##sz)EXPR_##ex(GETS(ka, a, sz), (UTYPE_##sz)UOP_IMM);                                     \
        if (write)                                                                                                     \
            PUTS_##sz(ka, a, r);                                                                                       \
        if (FCC_##cc(sz, r, 0))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(uop_j##op##sz##f_##cc##_##ka)                                                                               \
    {                                                                                                                  \
        UTYPE_##sz s = (UTYPE_##sz)UOP_IMM, r = (UTYPE_##sz)EXPR_##ex(GETS(ka, a, sz), s);                              \
        if (write)                                                                                                     \
            PUTS_##sz(ka, a, r);                                                                                       \
        SETF(kind, sz, r, s);                                                                                          \
        if (FCC_##cc(sz, r, 0))                                                                                        \
            UOP_EXIT;                                                                                                  \
        UOP_NEXT;                                                                                                      \
    }
#define DEF_JCMP(cc)                                                                                                   \
    EACH_KIND2(DEF_JCMP_RR, cc, 4) EACH_KIND2(DEF_JCMP_RR, cc, 8)                                                      \
    EACH_KIND(DEF_JCMP_RI, cc, 1) EACH_KIND(DEF_JCMP_RI, cc, 4) EACH_KIND(DEF_JCMP_RI, cc, 8)
#define DEF_JTESTS(cc) EACH_KIND(DEF_JTEST, cc, 1) EACH_KIND(DEF_JTEST, cc, 4) EACH_KIND(DEF_JTEST, cc, 8)
#define DEF_JALUS(op, ex, kind, write)                                                                                  \
    EACH_KIND(DEF_JALU, op, ex, kind, write, e, 4) EACH_KIND(DEF_JALU, op, ex, kind, write, ne, 4)                       \
    EACH_KIND(DEF_JALU, op, ex, kind, write, e, 8) EACH_KIND(DEF_JALU, op, ex, kind, write, ne, 8)
DEF_JCMP(b)
DEF_JCMP(ae)
DEF_JCMP(e)
DEF_JCMP(ne)
DEF_JCMP(be)
DEF_JCMP(a)
DEF_JCMP(l)
DEF_JCMP(ge)
DEF_JCMP(le)
DEF_JCMP(g)
DEF_JTESTS(e)
DEF_JTESTS(ne)
DEF_JTESTS(s)
DEF_JTESTS(ns)
DEF_JTESTS(le)
DEF_JTESTS(g)
DEF_JALUS(add, add, FLAGK_ADD, 1)
DEF_JALUS(sub, sub, FLAGK_SUB, 1)
DEF_JALUS(and, and, FLAGK_LOGIC, 1)
DEF_JALUS(test, and, FLAGK_LOGIC, 0)
EACH_KIND(DEF_JALU, test, and, FLAGK_LOGIC, 0, e, 1)
EACH_KIND(DEF_JALU, test, and, FLAGK_LOGIC, 0, ne, 1)

#define NAME_RRC(kb, ka, stem) stem##_##ka##kb,
#define TAB_RRC(stem) { EACH_KIND2(NAME_RRC, stem) }
#define TAB_RIC(stem) { EACH_KIND(NAME_RI, stem) }
#define TAB_JCMP_RR(cc) { { TAB_RRC(uop_jcmp4n_rr_##cc), TAB_RRC(uop_jcmp4f_rr_##cc) }, { TAB_RRC(uop_jcmp8n_rr_##cc), TAB_RRC(uop_jcmp8f_rr_##cc) } }
#define TAB_JCMP_RI(cc)                                                                                                \
    { { TAB_RIC(uop_jcmp1n_ri_##cc), TAB_RIC(uop_jcmp1f_ri_##cc) }, { TAB_RIC(uop_jcmp4n_ri_##cc), TAB_RIC(uop_jcmp4f_ri_##cc) }, \
      { TAB_RIC(uop_jcmp8n_ri_##cc), TAB_RIC(uop_jcmp8f_ri_##cc) } }
#define TAB_JTEST(cc)                                                                                                  \
    { { TAB_RIC(uop_jtst1n_##cc), TAB_RIC(uop_jtst1f_##cc) }, { TAB_RIC(uop_jtst4n_##cc), TAB_RIC(uop_jtst4f_##cc) }, \
      { TAB_RIC(uop_jtst8n_##cc), TAB_RIC(uop_jtst8f_##cc) } }
#define TAB_JALU(op, cc) \
    { { TAB_RIC(uop_j##op##4n_##cc), TAB_RIC(uop_j##op##4f_##cc) }, { TAB_RIC(uop_j##op##8n_##cc), TAB_RIC(uop_j##op##8f_##cc) } }
static int handler_cc_index(unsigned cc) /* b ae e ne be a l ge le g */
{
    return cc >= 2 && cc <= 7 ? (int)cc - 2 : cc >= 12 ? (int)cc - 6 : -1;
}
static int handler_flow_size(unsigned size) { return size == 1 ? 0 : size == 4 ? 1 : size == 8 ? 2 : -1; }
EMU_PRIV uop_fn handler_cmp_jcc_rr(unsigned size, bool flags, unsigned cc, unsigned ka, unsigned kb)
{
    static const uop_table_rr t[10][2][2] = { TAB_JCMP_RR(b), TAB_JCMP_RR(ae), TAB_JCMP_RR(e), TAB_JCMP_RR(ne), TAB_JCMP_RR(be), TAB_JCMP_RR(a),
                                              TAB_JCMP_RR(l), TAB_JCMP_RR(ge), TAB_JCMP_RR(le), TAB_JCMP_RR(g) };
    int k = handler_cc_index(cc);
    return k < 0 || size < 4 ? NULL : t[k][size == 8][flags][ka * UOP_KINDS + kb];
}
EMU_PRIV uop_fn handler_cmp_jcc_ri(unsigned size, bool flags, unsigned cc, unsigned ka)
{
    static const uop_table_ri t[10][3][2] = { TAB_JCMP_RI(b), TAB_JCMP_RI(ae), TAB_JCMP_RI(e), TAB_JCMP_RI(ne), TAB_JCMP_RI(be), TAB_JCMP_RI(a),
                                              TAB_JCMP_RI(l), TAB_JCMP_RI(ge), TAB_JCMP_RI(le), TAB_JCMP_RI(g) };
    int k = handler_cc_index(cc), s = handler_flow_size(size);
    return k < 0 || s < 0 ? NULL : t[k][s][flags][ka];
}
static unsigned handler_logic_cc(unsigned cc) /* CF = OF = 0 */
{
    return cc == 6 || cc == 7 ? cc - 2 : cc == 12 || cc == 13 ? cc - 4 : cc;
}
EMU_PRIV uop_fn handler_test_jcc(unsigned size, bool flags, unsigned cc, unsigned ka)
{
    static const uop_table_ri t[6][3][2] = { TAB_JTEST(e), TAB_JTEST(ne), TAB_JTEST(s), TAB_JTEST(ns), TAB_JTEST(le), TAB_JTEST(g) };
    int s = handler_flow_size(size), k;
    cc = handler_logic_cc(cc);
    k = cc == 4 || cc == 5 ? (int)cc - 4 : cc == 8 || cc == 9 ? (int)cc - 6 : cc >= 14 ? (int)cc - 10 : -1;
    return s < 0 || k < 0 ? NULL : t[k][s][flags][ka];
}
EMU_PRIV uop_fn handler_alu_jcc_ri(unsigned op, unsigned size, bool flags, unsigned cc, unsigned ka)
{
    static const uop_table_ri t[4][2][2][2] = {
        { TAB_JALU(add, e), TAB_JALU(add, ne) }, { TAB_JALU(sub, e), TAB_JALU(sub, ne) }, { TAB_JALU(and, e), TAB_JALU(and, ne) }, { TAB_JALU(test, e), TAB_JALU(test, ne) }
    };
    static const uop_table_ri test1[2][2] = { { TAB_RIC(uop_jtest1n_e), TAB_RIC(uop_jtest1f_e) }, { TAB_RIC(uop_jtest1n_ne), TAB_RIC(uop_jtest1f_ne) } };
    int k, o = op == OP_ADD ? 0 : op == OP_SUB ? 1 : op == OP_AND ? 2 : op == OP_TEST ? 3 : -1;
    if (o >= 2)
        cc = handler_logic_cc(cc);
    k = cc == 4 || cc == 5 ? (int)cc - 4 : -1;
    if (k < 0 || o < 0 || (size < 4 && (o != 3 || size != 1)))
        return NULL;
    return size == 1 ? test1[k][flags][ka] : t[o][k][size == 8][flags][ka];
}

/* ---- jumps ---- */
#define DEF_JMP_REG(ka, unused)                                                                                        \
    UOP_FN(uop_jmpr_##ka)                                                                                              \
    {                                                                                                                  \
        uint64_t target = GET(ka, a);                                                                                  \
        struct uop_jump *j = UOP_JUMP_ENTRY(target);                                                                   \
        if (EMU_UNLIKELY(!UOP_JUMP_HIT(j, target))) {                                                                  \
            c->gpr[GPR_TEMP] = target;                                                                                 \
            UOP_TAIL(uop_indirect_miss);                                                                               \
        }                                                                                                              \
        UOP_JUMP_TO(j, target);                                                                                        \
    }
EACH_KIND(DEF_JMP_REG, 0)
EMU_PRIV uop_fn handler_jmp_reg(unsigned ka)
{
    static const uop_table_ri t = TAB_RI(uop_jmpr);
    return t[ka];
}

/* As uop_refresh_far(), for an entry of the jump cache. */
static EMU_NOINLINE bool uop_refresh_jump(struct cpu *c, uint64_t target)
{
    struct uop_jump *j = UOP_JUMP_ENTRY(target);
    uint32_t generation;
    const uint8_t *host;
    if (j->rip != target || j->key != c->mode_key) {
        const struct uop_jump *second = UOP_JUMP_ENTRY2(target);
        if (second->rip != target || second->key != c->mode_key)
            return false;
        *j = *second;
    }
    if (UOP_CODE_VALID(j->generation))
        return true;
    if (!j->host || !cpu_canonical(c, target))
        return false;
    host = cpu_code_host(c, target, &generation);
    if (host != j->host)
        return false;
    j->generation = generation;
    return true;
}

/* The target in TEMP is not in the jump cache. u->misc 1: RET, whose stack pointer is still to move. */
UOP_FN_PRIV(uop_indirect_miss)
{
    uint64_t target = c->gpr[GPR_TEMP];
    bool known = uop_refresh_jump(c, target);
    if (!known && !cpu_canonical(c, target)) {
        c->fault.vector = EXC_GP;
        c->fault.flags = FAULT_HAS_ERROR;
        c->fault.error = 0;
        UOP_TAIL(uop_fault);
    }
    if (u->misc == 1) {
        c->gpr[GPR_RSP] += 8 + u->v.imm;
        c->return_top = (c->return_top - 1) & (CPU_RETURNS - 1u);
    }
    if (known)
        UOP_JUMP_TO(UOP_JUMP_ENTRY(target), target);
    c->budget -= u->count;
    UOP_SPILL;
    c->rip = target;
    return NULL;
}

UOP_FN_PRIV(uop_exit) { UOP_EXIT_FAR; }

/* ---- links; the handlers of heads and stubs get the unit behind them ---- */
#define UOP_HEAD (u - 1)

/* Where a link leads, as an offset from code_base: stubs keep it in disp, heads are where they are. */
static int64_t uop_link_offset(const struct uop *link)
{
    return UOP_IS(link, uop_exit_resolve) || UOP_IS(link, uop_exit_far) ? link->disp : link->pos;
}

UOP_FN_PRIV(uop_leave)
{
    UOP_SPILL;
    c->rip = uop_rip(c, (uint64_t)uop_link_offset(u->v.link));
    return NULL;
}

UOP_FN_PRIV(uop_exit_resolve)
{
    UOP_SPILL;
    c->leave_stub = UOP_HEAD;
    c->leave_base = c->code_base;
    c->rip = uop_rip(c, (uint64_t)(int64_t)UOP_HEAD->disp);
    return NULL;
}

/* A far link whose tag is old: does the target's address still (or again) lead to the page that the link was made for? Then it is good as it is.
 * Mappings change with each process; where code lies in memory does not. */
static EMU_NOINLINE bool uop_refresh_far(struct cpu *c, struct uop *stub)
{
    struct uop_page *p = UOP_PAGE(stub);
    uint64_t rip = c->code_base + (uint64_t)(int64_t)stub->disp;
    uint32_t generation;
    const uint8_t *host = c->code_size == 8 && p->addend ? cpu_code_host(c, rip, &generation) : NULL;
    if (!host || (uintptr_t)host != p->addend)
        return false;
    p->generation = generation;
    p->page = c->code_base;
    stub->v.imm = UOP_CODE_PAGE(rip);
    return true;
}
UOP_FN(uop_exit_far_stale)
{
    if (!uop_refresh_far(c, UOP_HEAD))
        UOP_TAIL(uop_exit_resolve);
    UOP_GO(UOP_HEAD);
}
UOP_FN_PRIV(uop_exit_far)
{
    struct uop_page *p = UOP_PAGE(UOP_HEAD);
    if (EMU_UNLIKELY(!UOP_CODE_VALID(p->generation) || p->page != c->code_base))
        UOP_TAIL(uop_exit_far_stale);
    c->code_base = UOP_HEAD->v.imm;
    UOP_GO(p->v.link);
}

UOP_FN_PRIV(uop_dead)
{
    UOP_SPILL;
    c->rip = uop_rip(c, UOP_HEAD->pos);
    return NULL;
}

UOP_FN_PRIV(uop_goto) { UOP_GO(UOP_HEAD->v.link); }

UOP_FN_PRIV(uop_count)
{
    c->tier1_insns += u->a;
    if (EMU_UNLIKELY(--u->disp < 0)) {
        UOP_SPILL;
        c->promote = UOP_HEAD;
        c->rip = uop_rip(c, u->pos);
        return NULL;
    }
    UOP_NEXT;
}

UOP_FN_PRIV(uop_flags) /* what PUSHF pushes in 64-bit mode, into TEMP */
{
    c->gpr[GPR_TEMP] = cpu_eflags(c) & ~(uint32_t)FLAG_RF;
    UOP_LATE(1);
}

UOP_FN_PRIV(uop_flags_keep)
{
    c->vtmp[0].q[0] = cpu_arith_flags(c) & ~(uint32_t)FLAG_CF;
    UOP_LATE(1);
}
UOP_FN_PRIV(uop_flags_carry) /* what uop_flags_keep() kept, with the CF that was recorded since */
{
    c->flag_kind = FLAGK_BITS;
    c->flag_result = c->vtmp[0].q[0] | (c->flag_source & FLAG_CF);
    UOP_NEXT;
}

/* ---- faults ---- */
UOP_FN_PRIV(uop_fault)
{
    UOP_SPILL;
    c->rip = uop_rip(c, u->pos);
    c->budget -= u->insn;
    c->leave_fault = 1;
    return NULL;
}

UOP_FN_PRIV(uop_raise)
{
    c->fault.vector = u->misc;
    c->fault.flags = u->disp >= 0 ? FAULT_HAS_ERROR : 0;
    c->fault.error = u->disp >= 0 ? (uint32_t)u->disp : 0;
    UOP_TAIL(uop_fault);
}

UOP_FN_PRIV(uop_misaligned)
{
    c->fault.vector = EXC_GP;
    c->fault.flags = FAULT_HAS_ERROR;
    c->fault.error = 0;
    UOP_TAIL(uop_fault);
}

/* SDM vol. 3A table 12-1, 13-1: what an x87, SSE or MMX instruction meets when the unit is off. */
UOP_FN_PRIV(uop_no_unit)
{
    bool ud = u->misc == 1 ? (c->cr0 & CR0_EM) || !(c->cr4 & CR4_OSFXSR) : u->misc == 2 && (c->cr0 & CR0_EM);
    c->fault.vector = ud ? EXC_UD : EXC_NM;
    c->fault.flags = 0;
    UOP_TAIL(uop_fault);
}

UOP_FN_PRIV(uop_mmx_begin)
{
    if (x87_check_pending(c))
        UOP_TAIL(uop_fault);
    c->x87_tags = 0;
    c->x87_top = 0;
    UOP_LATE(1);
}

/* ---- plain-C instructions ---- */
static struct uop *uop_stop_fault(struct cpu *c, const struct uop *u)
{
    c->budget -= u->insn;
    c->inflight = 0;
    c->leave_fault = 1;
    return NULL;
}

static struct uop *uop_stop_after(struct cpu *c, const struct uop *u)
{
    c->rip = c->next_rip;
    c->budget -= u->insn + 1;
    c->inflight = 0;
    return NULL;
}

/* 0: go on; 1: fault; 2: leave after it */
static EMU_NOINLINE int uop_call_slow(struct cpu *c, const struct uop *u)
{
    const struct insn *i = u->v.ptr;
    uint64_t next;
    c->rip = uop_rip(c, u->pos);
    c->next_rip = next = uop_rip(c, (uint64_t)u->pos + i->length);
    c->inflight = u->insn;
    if (i->row->call(c, i))
        return 1;
    if (EMU_UNLIKELY(c->next_rip != next || c->attention))
        return 2;
    c->inflight = 0;
    return 0;
}

UOP_FN_PRIV(uop_call)
{
    int r;
    UOP_SPILL;
    r = uop_call_slow(c, u);
    if (EMU_UNLIKELY(r))
        return r == 1 ? uop_stop_fault(c, u) : uop_stop_after(c, u);
    UOP_RELOAD;
    UOP_LATE(1);
}

UOP_FN_PRIV(uop_call_end)
{
    struct uop_jump *j;
    UOP_SPILL;
    if (uop_call_slow(c, u) == 1)
        return uop_stop_fault(c, u);
    uop_stop_after(c, u);
    if (c->budget < 0 || (c->attention | c->pending | (c->eflags & FLAG_TF)) || c->halted)
        return NULL;
    if (c->interrupt_shadow) { /* nothing waits that it could hold back, and nothing comes before the next exit */
        if (c->mode_key & KEY_DEBUG)
            return NULL;
        c->interrupt_shadow = 0;
    }
    if (!(c->mode_key & KEY_FLAT_CS)) /* the cache knows offsets, not CS bases: an INT may have changed the base */
        return NULL;
    j = UOP_JUMP_ENTRY(c->rip);
    if (!UOP_JUMP_HIT(j, c->rip) && !uop_refresh_jump(c, c->rip))
        return NULL;
    c->code_base = UOP_CODE_PAGE(c->rip);
    UOP_RELOAD;
    UOP_GO(j->u);
}

/* ---- flags of the system, at CPL 0 in 64-bit mode: nothing in them faults ---- */
UOP_FN_PRIV(uop_cli)
{
    c->eflags &= ~(uint32_t)FLAG_IF;
    UOP_NEXT;
}

/* Where no interrupt waits that the shadow could hold back: none is taken before the next exit, which another instruction of the trace precedes. */
UOP_FN_PRIV(uop_sti)
{
    if (EMU_UNLIKELY((c->pending | c->attention) || c->budget < 0))
        UOP_TAIL(uop_call_end);
    c->eflags |= FLAG_IF;
    UOP_NEXT;
}

/* As cpu_update_ac(). The key then is the same each time, so that the exit's link leads to traces of that key; without CR4.SMAP, which keys do not
 * tell, it would be another: out. u->disp: offset of the next instruction. */
#define DEF_SET_AC(name, flags, key, set)                                                                              \
    UOP_FN_PRIV(uop_##name)                                                                                            \
    {                                                                                                                  \
        c->eflags = (flags);                                                                                           \
        if (EMU_UNLIKELY(!(c->cr4 & CR4_SMAP))) {                                                                      \
            UOP_SPILL;                                                                                                 \
            c->rip = uop_rip(c, (uint64_t)(int64_t)u->disp);                                                           \
            c->budget -= u->count;                                                                                     \
            return NULL;                                                                                               \
        }                                                                                                              \
        c->mode_key = (key);                                                                                           \
        c->tlb_set = (set);                                                                                            \
        UOP_EXIT;                                                                                                      \
    }
DEF_SET_AC(stac, c->eflags | FLAG_AC, c->mode_key & ~(uint32_t)KEY_SMAP, 2)
DEF_SET_AC(clac, c->eflags & ~(uint32_t)FLAG_AC, c->mode_key | KEY_SMAP, 0)

/* ---- vector instructions without a handler of their own ---- */
UOP_FN_PRIV(uop_vec_rr)
{
    const struct insn *i = u->v.ptr;
    if (i->row->vec(c, UOP_XMM(u->a), UOP_XMM(u->x), UOP_XMM(u->b), u->misc))
        UOP_TAIL(uop_fault);
    UOP_LATE(1);
}

UOP_FN_PRIV(uop_clear_cell)
{
    UOP_CELL(u->a) = 0;
    UOP_NEXT;
}

/* ---- addresses with segment checks: into TEMP. u->misc: size, u->scale: access ---- */
static EMU_NOINLINE int uop_agen_slow(struct cpu *c, const struct uop *u)
{
    const struct insn *i = u->v.ptr;
    uint64_t va, offset;
    c->next_rip = uop_rip(c, (uint64_t)u->pos + i->length);
    offset = insn_address(c, i);
    if (cpu_linear(c, i->seg, offset, u->misc, u->scale, &va))
        return CPU_FAULT;
    c->gpr[GPR_TEMP] = va;
    return CPU_OK;
}
UOP_FN_PRIV(uop_agen)
{
    UOP_SPILL;
    if (EMU_UNLIKELY(uop_agen_slow(c, u)))
        UOP_TAIL(uop_fault);
    UOP_LATE(1);
}

/* ---- slow memory ---- */
static void uop_raise_non_canonical(struct cpu *c, unsigned seg)
{
    c->fault.vector = seg == SEG_SS ? EXC_SS : EXC_GP;
    c->fault.flags = FAULT_HAS_ERROR;
    c->fault.error = 0;
}

/* Fills u's page (0), prepares the copy on the bounce buffer (1), or faults (2). */
static EMU_NOINLINE int uop_miss_slow(struct cpu *c, struct uop *u, unsigned size, unsigned access)
{
    struct uop_page *p = UOP_PAGE(u);
    uint64_t va = c->miss_va, value;
    uint8_t *host, bytes[16];
    c->rip = uop_rip(c, u->pos);
    c->inflight = u->insn;
    c->slow_paths++;
    if (c->code_size == 8 && (!cpu_canonical(c, va) || !cpu_canonical(c, va + size - 1))) {
        uop_raise_non_canonical(c, p->seg);
        return 2;
    }
    host = tlb_host(c, va, size, access);
    if (host) {
        p->page = va & ~UINT64_C(4095);
        p->addend = (uintptr_t)host - (uintptr_t)va;
        p->generation = c->generation;
        c->inflight = 0;
        return 0;
    }
    if (access == ACCESS_READ || access == ACCESS_RMW) {
        if (size <= 8) {
            if (cpu_load_linear(c, va, size, &value, access))
                return 2;
            st64le(bytes, value);
            st64le(bytes + 8, 0);
        } else if (cpu_copy_linear(c, va, bytes, size, access)) {
            return 2;
        }
        memcpy(c->bounce[0].b, bytes, 16);
    } else if (cpu_check_linear(c, va, size, access)) {
        return 2;
    }
    memcpy(c->scratch + 1, u, 2 * sizeof *u);
    /* of a run its first instruction alone: there is room for no more */
    c->scratch->next = p->run ? (uop_then)handler_stack_run(p->run, 1) : p->v.self;
    c->resume = u + 2;
    c->resume_handler = p->run ? UOP_PAGE(u + 2)->v.self : u->next;
    p = UOP_PAGE(c->scratch + 1);
    p->page = va;
    p->addend = (uintptr_t)c->bounce[0].b - (uintptr_t)va;
    p->generation = c->generation;
    c->commit_size = access == ACCESS_READ ? 0 : (uint8_t)size;
    c->scratch[3].pos = u->pos;
    c->scratch[3].insn = u->insn;
    c->inflight = 0;
    if (EMU_UNLIKELY(c->attention)) /* the device wants something */
        cpu_kick(c);
    return 1;
}

/* After the copy: writes back what it stored. 2: leave before resume. */
static EMU_NOINLINE int uop_commit_slow(struct cpu *c, const struct uop *u)
{
    unsigned size = c->commit_size;
    int r;
    if (size == 0)
        return 0;
    c->rip = uop_rip(c, u->pos);
    c->inflight = u->insn;
    r = size <= 8 ? cpu_store_linear(c, c->miss_va, size, ldn_le(c->bounce[0].b, size), ACCESS_WRITE)
                  : cpu_copy_linear(c, c->miss_va, c->bounce[0].b, size, ACCESS_WRITE);
    c->inflight = 0;
    if (EMU_UNLIKELY(r)) /* the mapping was checked a moment ago */
        return 1;
    if (EMU_UNLIKELY(c->attention)) {
        cpu_kick(c);
        if ((c->attention & CPU_ATTENTION_CODE) && c->resume->insn > u->insn)
            return 2;
    }
    return 0;
}

UOP_FN(uop_commit)
{
    int r;
    UOP_SPILL;
    r = uop_commit_slow(c, u);
    if (EMU_UNLIKELY(r)) {
        if (r == 1)
            UOP_TAIL(uop_fault);
        /* a path's final exit has no instruction of its own: it goes on where its link leads, maybe in another page */
        c->rip = uop_rip(c, c->resume_handler == (uop_then)uop_exit ? (uint64_t)uop_link_offset(c->resume->v.link) : c->resume->pos);
        c->budget -= c->resume->insn;
        return NULL;
    }
    UOP_AT(c->resume_handler, c->resume);
}

/* First a look into the TLB, which costs no call; then the long way. */
#define DEF_MISS(name, size, access, tag)                                                                              \
    UOP_FN(name##_slow)                                                                                                \
    {                                                                                                                  \
        int r;                                                                                                         \
        UOP_SPILL;                                                                                                     \
        r = uop_miss_slow(c, u, size, access);                                                                         \
        if (EMU_UNLIKELY(r == 2)) {                                                                                    \
            c->inflight = 0;                                                                                           \
            UOP_TAIL(uop_fault);                                                                                       \
        }                                                                                                              \
        if (EMU_UNLIKELY(r == 1)) {                                                                                    \
            c->scratch[1].next = (uop_then)uop_commit;                                                                 \
            UOP_GO(c->scratch);                                                                                        \
        }                                                                                                              \
        UOP_AGAIN;                                                                                                     \
    }                                                                                                                  \
    UOP_FN_PRIV(name)                                                                                                  \
    {                                                                                                                  \
        uint64_t va = c->miss_va;                                                                                      \
        const struct tlb_entry *t = &c->tlb[c->tlb_set][(va >> 12) & (TLB_SIZE - 1)];                                  \
        c->fast_misses++;                                                                                              \
        if (EMU_LIKELY(t->tag == (va & ~UINT64_C(4095)) && (va & 4095) <= 4096u - (size) &&                            \
                       (t->generation == c->tlb_generation || t->generation == c->global_generation))) {               \
            struct uop_page *p = UOP_PAGE(u);                                                                          \
            p->page = t->tag;                                                                                          \
            p->addend = t->addend;                                                                                     \
            p->generation = c->generation;                                                                             \
            UOP_AGAIN;                                                                                                 \
        }                                                                                                              \
        UOP_TAIL(name##_slow);                                                                                         \
    }
DEF_MISS(uop_miss_r1, 1, ACCESS_READ, read_page)
DEF_MISS(uop_miss_r2, 2, ACCESS_READ, read_page)
DEF_MISS(uop_miss_r4, 4, ACCESS_READ, read_page)
DEF_MISS(uop_miss_r8, 8, ACCESS_READ, read_page)
DEF_MISS(uop_miss_r16, 16, ACCESS_READ, read_page)
DEF_MISS(uop_miss_w1, 1, ACCESS_WRITE, write_page)
DEF_MISS(uop_miss_w2, 2, ACCESS_WRITE, write_page)
DEF_MISS(uop_miss_w4, 4, ACCESS_WRITE, write_page)
DEF_MISS(uop_miss_w8, 8, ACCESS_WRITE, write_page)
DEF_MISS(uop_miss_w16, 16, ACCESS_WRITE, write_page)
DEF_MISS(uop_miss_m1, 1, ACCESS_RMW, write_page)
DEF_MISS(uop_miss_m2, 2, ACCESS_RMW, write_page)
DEF_MISS(uop_miss_m4, 4, ACCESS_RMW, write_page)
DEF_MISS(uop_miss_m8, 8, ACCESS_RMW, write_page)

/* CALL: page filled (0), done the slow way (1), fault (2). */
static EMU_NOINLINE int uop_miss_call_slow(struct cpu *c, struct uop *u)
{
    int r = uop_miss_slow(c, u, 8, ACCESS_WRITE);
    if (r != 1)
        return r;
    c->inflight = u->insn;
    r = cpu_store_linear(c, c->miss_va, 8, c->code_base + (uint64_t)(int64_t)u->disp, ACCESS_WRITE);
    c->inflight = 0;
    if (r)
        return 2;
    c->gpr[GPR_RSP] = c->miss_va;
    if (c->attention)
        cpu_kick(c);
    return 1;
}
UOP_FN_PRIV(uop_miss_call)
{
    int r;
    UOP_SPILL;
    r = uop_miss_call_slow(c, u);
    if (r == 2) {
        c->inflight = 0;
        UOP_TAIL(uop_fault);
    }
    if (r == 0)
        UOP_AT(handler_call(), u);
    UOP_EXIT;
}
/* CALL r: the page or the jump cache missed; the target is in TEMP. */
UOP_FN_PRIV(uop_miss_call_reg)
{
    uint64_t target = c->gpr[GPR_TEMP];
    int r;
    if (uop_refresh_jump(c, target) && !UOP_MISSES(c->miss_va, 8))
        UOP_AT(u->v.self, u); /* nothing else was missing */
    UOP_SPILL;
    if (!cpu_canonical(c, target)) {
        uop_raise_non_canonical(c, SEG_CS);
        UOP_TAIL(uop_fault);
    }
    r = uop_miss_call_slow(c, u);
    if (r == 2) {
        c->inflight = 0;
        UOP_TAIL(uop_fault);
    }
    if (r == 0) {
        uint8_t *p = (uint8_t *)(uintptr_t)((uintptr_t)c->miss_va + UOP_PAGE(u)->addend);
        st64le(p, c->code_base + (uint64_t)(int64_t)u->disp);
        c->gpr[GPR_RSP] = c->miss_va;
    }
    c->budget -= u->count;
    c->rip = target;
    return NULL;
}

EMU_PRIV void uop_enter(struct cpu *c, struct uop *head)
{
    uop_then handler = head->next;
    struct uop *u = head + 1;
#if EMU_TAIL_CALLS
#if EMU_SLOTS == 0
    ((uop_fn)handler)(c, u, u->next);
#elif EMU_SLOTS == 3
    ((uop_fn)handler)(c, u, c->gpr[SLOT_REG0], c->gpr[SLOT_REG1], c->gpr[SLOT_REG2], u->next);
#else
    ((uop_fn)handler)(c, u, c->gpr[SLOT_REG0], c->gpr[SLOT_REG1], c->gpr[SLOT_REG2], c->gpr[SLOT_REG3], u->next);
#endif
#else
    for (; u; handler = c->then)
        u = ((uop_fn)handler)(c, u);
#endif
}
#undef FLOW_R
#undef FLOW_S
#undef FLOW_D
#undef FLOW_SS
#undef FLOW_SUB
#undef UOP_HEAD
