/* cpu/sse.c - floating point of SSE, SSE2 and SSE3: moves, arithmetic, comparisons, conversions, MXCSR.
 *
 * Models     SDM vol. 1 chapters 10 to 12 and appendix E (what each instruction does for NaNs and with unmasked exceptions).
 * Contract   cpu_rows_sse() gives decode.c the rows; packed integers are in mmx.c. sse_env() and sse_raise() serve sse4.c too.
 * Theory     Arithmetic first tries the host's float and double. That is right to the last bit and flag when the host computes in the
 *            operand's own format (FLT_EVAL_METHOD 0), MXCSR has PE already set, everything masked, rounds to nearest and does not flush;
 *            operands are normal or zero and the result is normal, above the smallest normal (so not tiny), or a zero known to be
 *            exact. Everything else goes element by element through softfloat.c. Comparisons of numbers that are not denormal
 *            raise nothing, in any mode. No product feeds a sum in one expression: there is nothing to contract.
 * Invariants 1. An instruction that raises #XM has changed MXCSR's flags and nothing else.
 *            2. A result written by the host's arithmetic equals what softfloat.c gives (tests/cpu_diff.c runs both).
 * Missing    nothing of these sets. RCPxS and RSQRTxS give what Intel's tables give.
 */
#include "../machine.h"
#include "cpu.h"
#include "vec.h"
#include "uop.h"

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD == 0 && !defined(EMU_SOFT_FLOAT)
#define SSE_HOST_FLOAT 1
#else
#define SSE_HOST_FLOAT 0
#endif

/* ---- environment and exceptions ---- */
EMU_PRIV void sse_env(const struct cpu *c, struct sf_env *env)
{
    env->rounding = (uint8_t)(c->mxcsr >> 13 & 3);
    env->flags = 0;
    env->masked = (uint8_t)(c->mxcsr >> 7 & SF_ALL_FLAGS);
    env->daz = (c->mxcsr & MXCSR_DAZ) != 0;
    env->ftz = (c->mxcsr & MXCSR_FTZ) != 0;
    env->x87 = false;
    env->rounded_up = false;
}

/* SDM vol. 1 §11.5.2: IE, DE and ZE are found before anything is computed; where one of them is unmasked, OE, UE and PE stay out. */
EMU_PRIV int sse_raise(struct cpu *c, const struct sf_env *env)
{
    unsigned flags = env->flags, unmasked = flags & ~(unsigned)env->masked;
    if (unmasked & (SF_IE | SF_DE | SF_ZE))
        flags &= SF_IE | SF_DE | SF_ZE;
    c->mxcsr |= flags;
    if (EMU_LIKELY(!unmasked))
        return CPU_OK;
    return cpu_raise(c, c->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

/* ---- arithmetic ---- */
#define SSE_E32 UINT32_C(0x7F800000)
EMU_ALWAYS_INLINE bool sse_fast(const struct cpu *c)
{
    return (c->mxcsr & (MXCSR_RC | MXCSR_FTZ | MXCSR_DAZ | MXCSR_MASKS | SF_PE)) == (MXCSR_MASKS | SF_PE);
}
EMU_ALWAYS_INLINE float sse_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
EMU_ALWAYS_INLINE uint32_t sse_b32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}
EMU_ALWAYS_INLINE double sse_f64(uint64_t bits)
{
    double f;
    memcpy(&f, &bits, 8);
    return f;
}
EMU_ALWAYS_INLINE uint64_t sse_b64(double f)
{
    uint64_t bits;
    memcpy(&bits, &f, 8);
    return bits;
}
/* A result that cannot have been tiny or overflowed. With such a result an operand can be neither infinite nor a NaN. */
EMU_ALWAYS_INLINE bool sse_safe32(uint32_t r) { return (r & SSE_E32) - 0x01000000u < 0x7E800000u; }
EMU_ALWAYS_INLINE unsigned sse_exp64(uint64_t x) { return (unsigned)(x >> 52) & 0x7FF; }
EMU_ALWAYS_INLINE bool sse_safe64(uint64_t r) { return sse_exp64(r) - 2u < 0x7FDu; }
EMU_ALWAYS_INLINE bool sse_plain32(uint32_t x) { return (x & SSE_E32) - 0x00800000u < 0x7F000000u || !(x << 1); } /* normal or zero */
EMU_ALWAYS_INLINE bool sse_plain64(uint64_t x) { return sse_exp64(x) - 1u < 0x7FEu || !(x << 1); }
/* Neither NaN nor denormal: comparisons raise no flag. */
EMU_ALWAYS_INLINE bool sse_ordered32(uint32_t x) { return (x & SSE_E32) ? (x << 1) <= 0xFF000000u : !(x << 1); }
EMU_ALWAYS_INLINE bool sse_ordered64(uint64_t x) { return sse_exp64(x) ? (x << 1) <= UINT64_C(0xFFE0000000000000) : !(x << 1); }

/* Zero results of plain operands that are exact: x and y as patterns without sign. */
#define SSE_ZERO_ADD(x, y) ((x) == (y))
#define SSE_ZERO_MUL(x, y) (!(x) || !(y))
#define SSE_ZERO_DIV(x, y) (!(x) && (y))

static EMU_NOINLINE int sse_soft32(struct cpu *c, union vec *d, const union vec *a, const union vec *b, enum sf_op op, unsigned lanes)
{
    struct sf_env env;
    uint32_t r[4];
    unsigned i;
    int fault;
    sse_env(c, &env);
    for (i = 0; i < lanes; i++)
        r[i] = (uint32_t)sf_element(&env, &sf_f32, op, VD(a, i), VD(b, i));
    fault = sse_raise(c, &env);
    if (!fault)
        for (i = 0; i < lanes; i++)
            VD(d, i) = r[i];
    return fault;
}
static EMU_NOINLINE int sse_soft64(struct cpu *c, union vec *d, const union vec *a, const union vec *b, enum sf_op op, unsigned lanes)
{
    struct sf_env env;
    uint64_t r[2];
    unsigned i;
    int fault;
    sse_env(c, &env);
    for (i = 0; i < lanes; i++)
        r[i] = sf_element(&env, &sf_f64, op, VQ(a, i), VQ(b, i));
    fault = sse_raise(c, &env);
    if (!fault)
        for (i = 0; i < lanes; i++)
            VQ(d, i) = r[i];
    return fault;
}

/* One operation in its four forms. The packed forms test all lanes at once and so let the compiler use the host's vectors. */
#define SSE_ARITH(name, host_op, soft_op, zero)                                                                        \
    /* the second way, lane by lane: zeros too */                                                                      \
    static bool sse_##name##_lanes32(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    {                                                                                                                  \
        uint32_t x, y, r[4];                                                                                           \
        unsigned i;                                                                                                    \
        if (!SSE_HOST_FLOAT || !sse_fast(c))                                                                           \
            return false;                                                                                              \
        for (i = 0; i < lanes; i++) {                                                                                  \
            x = VD(a, i), y = VD(b, i);                                                                                \
            r[i] = sse_b32(sse_f32(x) host_op sse_f32(y));                                                             \
            if (!sse_plain32(x) || !sse_plain32(y) || !(sse_safe32(r[i]) || (!(r[i] << 1) && zero(x << 1, y << 1))))   \
                return false;                                                                                          \
        }                                                                                                              \
        for (i = 0; i < lanes; i++)                                                                                    \
            VD(d, i) = r[i];                                                                                           \
        return true;                                                                                                   \
    }                                                                                                                  \
    static bool sse_##name##_lanes64(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    {                                                                                                                  \
        uint64_t x, y, r[2];                                                                                           \
        unsigned i;                                                                                                    \
        if (!SSE_HOST_FLOAT || !sse_fast(c))                                                                           \
            return false;                                                                                              \
        for (i = 0; i < lanes; i++) {                                                                                  \
            x = VQ(a, i), y = VQ(b, i);                                                                                \
            r[i] = sse_b64(sse_f64(x) host_op sse_f64(y));                                                             \
            if (!sse_plain64(x) || !sse_plain64(y) || !(sse_safe64(r[i]) || (!(r[i] << 1) && zero(x << 1, y << 1))))   \
                return false;                                                                                          \
        }                                                                                                              \
        for (i = 0; i < lanes; i++)                                                                                    \
            VQ(d, i) = r[i];                                                                                           \
        return true;                                                                                                   \
    }                                                                                                                  \
    VEC_TRY(name##ps)                                                                                                  \
    {                                                                                                                  \
        uint32_t x[4], y[4], r[4], bad = 0;                                                                            \
        unsigned i;                                                                                                    \
        (void)imm;                                                                                                     \
        if (!SSE_HOST_FLOAT || !sse_fast(c))                                                                           \
            return false;                                                                                              \
        memcpy(x, a, 16);                                                                                              \
        memcpy(y, b, 16);                                                                                              \
        for (i = 0; i < 4; i++) {                                                                                      \
            r[i] = sse_b32(sse_f32(x[i]) host_op sse_f32(y[i]));                                                       \
            bad |= (uint32_t)!((x[i] & SSE_E32) && (y[i] & SSE_E32) && sse_safe32(r[i]));                              \
        }                                                                                                              \
        if (EMU_UNLIKELY(bad))                                                                                         \
            return false;                                                                                              \
        memcpy(d, r, 16);                                                                                              \
        return true;                                                                                                   \
    }                                                                                                                  \
    VEC_TRY(name##pd)                                                                                                  \
    {                                                                                                                  \
        uint64_t x[2], y[2], r[2];                                                                                     \
        unsigned i, bad = 0;                                                                                           \
        (void)imm;                                                                                                     \
        if (!SSE_HOST_FLOAT || !sse_fast(c))                                                                           \
            return false;                                                                                              \
        memcpy(x, a, 16);                                                                                              \
        memcpy(y, b, 16);                                                                                              \
        for (i = 0; i < 2; i++) {                                                                                      \
            r[i] = sse_b64(sse_f64(x[i]) host_op sse_f64(y[i]));                                                       \
            bad |= !(sse_exp64(x[i]) && sse_exp64(y[i]) && sse_safe64(r[i]));                                          \
        }                                                                                                              \
        if (EMU_UNLIKELY(bad))                                                                                         \
            return false;                                                                                              \
        memcpy(d, r, 16);                                                                                              \
        return true;                                                                                                   \
    }                                                                                                                  \
    VEC_TRY(name##ss)                                                                                                  \
    {                                                                                                                  \
        uint32_t x = VD(a, 0), y = VD(b, 0), r;                                                                        \
        (void)imm;                                                                                                     \
        if (!SSE_HOST_FLOAT || !sse_fast(c))                                                                           \
            return false;                                                                                              \
        r = sse_b32(sse_f32(x) host_op sse_f32(y));                                                                    \
        if (EMU_UNLIKELY(!((x & SSE_E32) && (y & SSE_E32) && sse_safe32(r))))                                          \
            return false;                                                                                              \
        VD(d, 0) = r;                                                                                                  \
        return true;                                                                                                   \
    }                                                                                                                  \
    VEC_TRY(name##sd)                                                                                                  \
    {                                                                                                                  \
        uint64_t x = VQ(a, 0), y = VQ(b, 0), r;                                                                        \
        (void)imm;                                                                                                     \
        if (!SSE_HOST_FLOAT || !sse_fast(c))                                                                           \
            return false;                                                                                              \
        r = sse_b64(sse_f64(x) host_op sse_f64(y));                                                                    \
        if (EMU_UNLIKELY(!(sse_exp64(x) && sse_exp64(y) && sse_safe64(r))))                                            \
            return false;                                                                                              \
        VQ(d, 0) = r;                                                                                                  \
        return true;                                                                                                   \
    }                                                                                                                  \
    VEC_FN(name##ps) { return (void)imm, sse_##name##_lanes32(c, d, a, b, 4) ? CPU_OK : sse_soft32(c, d, a, b, soft_op, 4); } \
    VEC_FN(name##pd) { return (void)imm, sse_##name##_lanes64(c, d, a, b, 2) ? CPU_OK : sse_soft64(c, d, a, b, soft_op, 2); } \
    VEC_FN(name##ss) { return (void)imm, sse_##name##_lanes32(c, d, a, b, 1) ? CPU_OK : sse_soft32(c, d, a, b, soft_op, 1); } \
    VEC_FN(name##sd) { return (void)imm, sse_##name##_lanes64(c, d, a, b, 1) ? CPU_OK : sse_soft64(c, d, a, b, soft_op, 1); } \
    SSE_HANDLERS(name)
/* The four vec_fn: the quick way, else softfloat; and their handlers. */
#define SSE_TRY_OR_SOFT(name, soft_op)                                                                                 \
    VEC_FN(name##ps) { return vect_##name##ps(c, d, a, b, imm) ? CPU_OK : sse_soft32(c, d, a, b, soft_op, 4); }        \
    VEC_FN(name##pd) { return vect_##name##pd(c, d, a, b, imm) ? CPU_OK : sse_soft64(c, d, a, b, soft_op, 2); }        \
    VEC_FN(name##ss) { return vect_##name##ss(c, d, a, b, imm) ? CPU_OK : sse_soft32(c, d, a, b, soft_op, 1); }        \
    VEC_FN(name##sd) { return vect_##name##sd(c, d, a, b, imm) ? CPU_OK : sse_soft64(c, d, a, b, soft_op, 1); }        \
    SSE_HANDLERS(name)
#define SSE_HANDLERS(name)                                                                                             \
    VEC_HANDLERS_TRY(name##ps, 16)                                                                                     \
    VEC_HANDLERS_TRY(name##pd, 16)                                                                                     \
    VEC_HANDLERS_TRY(name##ss, 4)                                                                                      \
    VEC_HANDLERS_TRY(name##sd, 8)
SSE_ARITH(add, +, SF_OP_ADD, SSE_ZERO_ADD)
SSE_ARITH(sub, -, SF_OP_SUB, SSE_ZERO_ADD)
SSE_ARITH(mul, *, SF_OP_MUL, SSE_ZERO_MUL)
SSE_ARITH(div, /, SF_OP_DIV, SSE_ZERO_DIV)
#undef SSE_ARITH
#undef SSE_ZERO_ADD
#undef SSE_ZERO_MUL
#undef SSE_ZERO_DIV

VEC_FN(sqrtps) { return (void)imm, sse_soft32(c, d, a, b, SF_OP_SQRT, 4); }
VEC_FN(sqrtss) { return (void)imm, sse_soft32(c, d, a, b, SF_OP_SQRT, 1); }
VEC_FN(sqrtpd) { return (void)imm, sse_soft64(c, d, a, b, SF_OP_SQRT, 2); }
VEC_FN(sqrtsd) { return (void)imm, sse_soft64(c, d, a, b, SF_OP_SQRT, 1); }

/* The second operand unless the first is less (greater): so for equal zeros too. */
#define SSE_MINMAX(name, rel, soft_op)                                                                                 \
    EMU_ALWAYS_INLINE bool sse_##name##_32(union vec *d, const union vec *a, const union vec *b, unsigned lanes)       \
    {                                                                                                                  \
        unsigned i, good = 1;                                                                                          \
        for (i = 0; i < lanes; i++)                                                                                    \
            good &= (unsigned)(sse_ordered32(VD(a, i)) && sse_ordered32(VD(b, i)));                                    \
        if (EMU_UNLIKELY(!good))                                                                                       \
            return false;                                                                                              \
        for (i = 0; i < lanes; i++) {                                                                                  \
            uint32_t x = VD(a, i), y = VD(b, i);                                                                       \
            VD(d, i) = sse_f32(x) rel sse_f32(y) ? x : y;                                                              \
        }                                                                                                              \
        return true;                                                                                                   \
    }                                                                                                                  \
    EMU_ALWAYS_INLINE bool sse_##name##_64(union vec *d, const union vec *a, const union vec *b, unsigned lanes)       \
    {                                                                                                                  \
        unsigned i, good = 1;                                                                                          \
        for (i = 0; i < lanes; i++)                                                                                    \
            good &= (unsigned)(sse_ordered64(VQ(a, i)) && sse_ordered64(VQ(b, i)));                                    \
        if (EMU_UNLIKELY(!good))                                                                                       \
            return false;                                                                                              \
        for (i = 0; i < lanes; i++) {                                                                                  \
            uint64_t x = VQ(a, i), y = VQ(b, i);                                                                       \
            VQ(d, i) = sse_f64(x) rel sse_f64(y) ? x : y;                                                              \
        }                                                                                                              \
        return true;                                                                                                   \
    }                                                                                                                  \
    VEC_TRY(name##ps) { return (void)c, (void)imm, sse_##name##_32(d, a, b, 4); }                                      \
    VEC_TRY(name##ss) { return (void)c, (void)imm, sse_##name##_32(d, a, b, 1); }                                      \
    VEC_TRY(name##pd) { return (void)c, (void)imm, sse_##name##_64(d, a, b, 2); }                                      \
    VEC_TRY(name##sd) { return (void)c, (void)imm, sse_##name##_64(d, a, b, 1); }                                      \
    SSE_TRY_OR_SOFT(name, soft_op)
SSE_MINMAX(min, <, SF_OP_MIN)
SSE_MINMAX(max, >, SF_OP_MAX)
#undef SSE_MINMAX
#undef SSE_TRY_OR_SOFT
#undef SSE_HANDLERS

/* HADDPS .. ADDSUBPD: rearranged operands, then one packed operation (its lanes' flags are merged just so). */
static int sse_horizontal32(struct cpu *c, union vec *d, const union vec *a, const union vec *b, bool subtract)
{
    union vec x = *a, y = *b;
    unsigned i;
    for (i = 0; i < 2; i++) {
        VD(&x, i) = VD(a, 2 * i);
        VD(&x, 2 + i) = VD(b, 2 * i);
        VD(&y, i) = VD(a, 2 * i + 1);
        VD(&y, 2 + i) = VD(b, 2 * i + 1);
    }
    return subtract ? vec_subps(c, d, &x, &y, 0) : vec_addps(c, d, &x, &y, 0);
}
static int sse_horizontal64(struct cpu *c, union vec *d, const union vec *a, const union vec *b, bool subtract)
{
    union vec x = *a, y = *b;
    VQ(&x, 1) = VQ(b, 0);
    VQ(&y, 0) = VQ(a, 1);
    return subtract ? vec_subpd(c, d, &x, &y, 0) : vec_addpd(c, d, &x, &y, 0);
}
VEC_FN(haddps) { return (void)imm, sse_horizontal32(c, d, a, b, false); }
VEC_FN(hsubps) { return (void)imm, sse_horizontal32(c, d, a, b, true); }
VEC_FN(haddpd) { return (void)imm, sse_horizontal64(c, d, a, b, false); }
VEC_FN(hsubpd) { return (void)imm, sse_horizontal64(c, d, a, b, true); }
/* Even lanes subtract, odd lanes add. Not a - (-b): the sign of a NaN would change. */
VEC_FN(addsubps)
{
    struct sf_env env;
    uint32_t r[4];
    unsigned i;
    int fault;
    (void)imm;
    sse_env(c, &env);
    for (i = 0; i < 4; i++)
        r[i] = (uint32_t)sf_element(&env, &sf_f32, i & 1 ? SF_OP_ADD : SF_OP_SUB, VD(a, i), VD(b, i));
    fault = sse_raise(c, &env);
    for (i = 0; i < 4 && !fault; i++)
        VD(d, i) = r[i];
    return fault;
}
VEC_FN(addsubpd)
{
    struct sf_env env;
    uint64_t lo, hi;
    int fault;
    (void)imm;
    sse_env(c, &env);
    lo = sf_element(&env, &sf_f64, SF_OP_SUB, VQ(a, 0), VQ(b, 0));
    hi = sf_element(&env, &sf_f64, SF_OP_ADD, VQ(a, 1), VQ(b, 1));
    fault = sse_raise(c, &env);
    if (!fault) {
        VQ(d, 0) = lo;
        VQ(d, 1) = hi;
    }
    return fault;
}

/* ---- reciprocal approximations ---- */
/* What the hardware of Intel's family gives is a table of 2048 midpoints: 1/x, or 1/sqrt(x), of the middle of x's interval, rounded to
 * 13 significant bits (all 2048 and 2048 entries were compared). No flags, no rounding mode; denormals count as zeros, tiny results are zeros. */
static uint32_t sse_isqrt32(uint32_t n) /* floor */
{
    uint32_t r = 0, bit;
    for (bit = UINT32_C(1) << 15; bit; bit >>= 1)
        if ((r | bit) * (r | bit) <= n)
            r |= bit;
    return r;
}
static uint32_t sse_rcp(uint32_t x)
{
    uint32_t sign = x & 0x80000000u, exp = x >> 23 & 0xFF, r;
    if (exp == 0xFF)
        return x << 9 ? x | 0x00400000u : sign;
    if (!exp)
        return sign | 0x7F800000u;
    if (exp >= 253)
        return sign;
    r = (UINT32_C(1) << 26) / (4097 + 2 * (x >> 12 & 0x7FF));
    r = (r + 1) >> 1; /* 4096 to 8191: the quotient of 2^25 */
    return sign | (253 - exp) << 23 | (r & 0xFFF) << 11;
}
static uint32_t sse_rsqrt(uint32_t x)
{
    uint32_t sign = x & 0x80000000u, exp = x >> 23 & 0xFF, k, r;
    if (exp == 0xFF && x << 9)
        return x | 0x00400000u;
    if (!exp)
        return sign | 0x7F800000u;
    if (sign)
        return 0xFFC00000u;
    if (exp == 0xFF)
        return 0;
    k = 2049 + 2 * (x >> 13 & 0x3FF);
    r = exp & 1 ? (uint32_t)((UINT64_C(1) << 39) / k) : (uint32_t)((UINT64_C(1) << 38) / k);
    r = (sse_isqrt32(r) + 1) >> 1;
    return (exp & 1 ? 190 - (exp + 1) / 2 : 190 - exp / 2) << 23 | (r & 0xFFF) << 11;
}
VEC_FN(rcpss)
{
    (void)c, (void)a, (void)imm;
    VD(d, 0) = sse_rcp(VD(b, 0));
    return CPU_OK;
}
VEC_FN(rsqrtss)
{
    (void)c, (void)a, (void)imm;
    VD(d, 0) = sse_rsqrt(VD(b, 0));
    return CPU_OK;
}
VEC_FN(rcpps)
{
    unsigned i;
    (void)c, (void)a, (void)imm;
    for (i = 0; i < 4; i++)
        VD(d, i) = sse_rcp(VD(b, i));
    return CPU_OK;
}
VEC_FN(rsqrtps)
{
    unsigned i;
    (void)c, (void)a, (void)imm;
    for (i = 0; i < 4; i++)
        VD(d, i) = sse_rsqrt(VD(b, i));
    return CPU_OK;
}

/* ---- comparisons ---- */
/* Predicates of CMPxx, imm bits 2:0; bit 2 negates. EQ, UNORD (and negations) are quiet. */
static bool sse_predicate(unsigned imm, enum sf_order o)
{
    bool r;
    switch (imm & 3) {
    case 0: r = o == SF_EQUAL; break;
    case 1: r = o == SF_LESS; break;
    case 2: r = o == SF_LESS || o == SF_EQUAL; break;
    default: r = o == SF_UNORDERED; break;
    }
    return r != ((imm >> 2) & 1);
}
static enum sf_order sse_order(struct sf_env *env, const struct sf_format *f, uint64_t x, uint64_t y, bool quiet)
{
    struct sf_num m = sf_unpack(env, f, x), n = sf_unpack(env, f, y);
    return sf_compare(env, &m, &n, quiet);
}
static int sse_cmp32(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm, unsigned lanes)
{
    struct sf_env env;
    uint32_t r[4];
    unsigned i;
    int fault = CPU_OK;
    bool quiet = (imm & 3) == 0 || (imm & 3) == 3;
    sse_env(c, &env);
    for (i = 0; i < lanes; i++) {
        uint32_t x = VD(a, i), y = VD(b, i);
        enum sf_order o;
        if (sse_ordered32(x) && sse_ordered32(y))
            o = sse_f32(x) < sse_f32(y) ? SF_LESS : sse_f32(x) == sse_f32(y) ? SF_EQUAL : SF_GREATER;
        else
            o = sse_order(&env, &sf_f32, x, y, quiet);
        r[i] = sse_predicate(imm, o) ? UINT32_MAX : 0;
    }
    if (env.flags)
        fault = sse_raise(c, &env);
    for (i = 0; i < lanes && !fault; i++)
        VD(d, i) = r[i];
    return fault;
}
static int sse_cmp64(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm, unsigned lanes)
{
    struct sf_env env;
    uint64_t r[2];
    unsigned i;
    int fault = CPU_OK;
    bool quiet = (imm & 3) == 0 || (imm & 3) == 3;
    sse_env(c, &env);
    for (i = 0; i < lanes; i++) {
        uint64_t x = VQ(a, i), y = VQ(b, i);
        enum sf_order o;
        if (sse_ordered64(x) && sse_ordered64(y))
            o = sse_f64(x) < sse_f64(y) ? SF_LESS : sse_f64(x) == sse_f64(y) ? SF_EQUAL : SF_GREATER;
        else
            o = sse_order(&env, &sf_f64, x, y, quiet);
        r[i] = sse_predicate(imm, o) ? UINT64_MAX : 0;
    }
    if (env.flags)
        fault = sse_raise(c, &env);
    for (i = 0; i < lanes && !fault; i++)
        VQ(d, i) = r[i];
    return fault;
}
VEC_FN(cmpps) { return sse_cmp32(c, d, a, b, imm, 4); }
VEC_FN(cmpss) { return sse_cmp32(c, d, a, b, imm, 1); }
VEC_FN(cmppd) { return sse_cmp64(c, d, a, b, imm, 2); }
VEC_FN(cmpsd) { return sse_cmp64(c, d, a, b, imm, 1); }
/* The predicate on ordered numbers, from less and equal as bits. */
EMU_ALWAYS_INLINE unsigned sse_quick_predicate(unsigned imm, unsigned less, unsigned equal)
{
    static const uint8_t truth[8] = { 2, 1, 3, 0, 5, 6, 4, 7 }; /* bit 0: less, 1: equal, 2: greater */
    return truth[imm & 7] >> (less ? 0 : equal ? 1 : 2) & 1u;
}
VEC_TRY(cmpss)
{
    uint32_t x = VD(a, 0), y = VD(b, 0);
    (void)c;
    if (!sse_ordered32(x) || !sse_ordered32(y))
        return false;
    VD(d, 0) = 0u - sse_quick_predicate(imm, sse_f32(x) < sse_f32(y), sse_f32(x) == sse_f32(y));
    return true;
}
VEC_TRY(cmpsd)
{
    uint64_t x = VQ(a, 0), y = VQ(b, 0);
    (void)c;
    if (!sse_ordered64(x) || !sse_ordered64(y))
        return false;
    VQ(d, 0) = 0 - (uint64_t)sse_quick_predicate(imm, sse_f64(x) < sse_f64(y), sse_f64(x) == sse_f64(y));
    return true;
}
VEC_HANDLERS_TRY(cmpss, 4)
VEC_HANDLERS_TRY(cmpsd, 8)

static int sse_set_order(struct cpu *c, const struct sf_env *env, enum sf_order o)
{
    static const uint8_t flags[] = { FLAG_CF, FLAG_ZF, 0, FLAG_CF | FLAG_PF | FLAG_ZF }; /* ORDER sf_order */
    int fault = sse_raise(c, env);
    if (!fault)
        cpu_set_arith_flags(c, flags[o]);
    return fault;
}
static int sse_comis32(struct cpu *c, uint32_t x, uint32_t y, bool quiet)
{
    struct sf_env env;
    enum sf_order o;
    sse_env(c, &env);
    o = sse_order(&env, &sf_f32, x, y, quiet);
    return sse_set_order(c, &env, o);
}
static int sse_comis64(struct cpu *c, uint64_t x, uint64_t y, bool quiet)
{
    struct sf_env env;
    enum sf_order o;
    sse_env(c, &env);
    o = sse_order(&env, &sf_f64, x, y, quiet);
    return sse_set_order(c, &env, o);
}
/* cpu_set_arith_flags(), without a call */
EMU_ALWAYS_INLINE void sse_quick_flags(struct cpu *c, bool less, bool equal)
{
    c->flag_kind = FLAGK_BITS;
    c->flag_result = (uint64_t)less * FLAG_CF | (uint64_t)equal * FLAG_ZF;
}
EMU_ALWAYS_INLINE bool sse_try_comis32(struct cpu *c, uint32_t x, uint32_t y)
{
    if (EMU_UNLIKELY(!sse_ordered32(x) || !sse_ordered32(y)))
        return false;
    sse_quick_flags(c, sse_f32(x) < sse_f32(y), sse_f32(x) == sse_f32(y));
    return true;
}
EMU_ALWAYS_INLINE bool sse_try_comis64(struct cpu *c, uint64_t x, uint64_t y)
{
    if (EMU_UNLIKELY(!sse_ordered64(x) || !sse_ordered64(y)))
        return false;
    sse_quick_flags(c, sse_f64(x) < sse_f64(y), sse_f64(x) == sse_f64(y));
    return true;
}
VEC_TRY(ucomiss) { return (void)d, (void)imm, sse_try_comis32(c, VD(a, 0), VD(b, 0)); }
VEC_TRY(comiss) { return (void)d, (void)imm, sse_try_comis32(c, VD(a, 0), VD(b, 0)); }
VEC_TRY(ucomisd) { return (void)d, (void)imm, sse_try_comis64(c, VQ(a, 0), VQ(b, 0)); }
VEC_TRY(comisd) { return (void)d, (void)imm, sse_try_comis64(c, VQ(a, 0), VQ(b, 0)); }
VEC_FN(ucomiss) { return vect_ucomiss(c, d, a, b, imm) ? CPU_OK : sse_comis32(c, VD(a, 0), VD(b, 0), true); }
VEC_FN(comiss) { return vect_comiss(c, d, a, b, imm) ? CPU_OK : sse_comis32(c, VD(a, 0), VD(b, 0), false); }
VEC_FN(ucomisd) { return vect_ucomisd(c, d, a, b, imm) ? CPU_OK : sse_comis64(c, VQ(a, 0), VQ(b, 0), true); }
VEC_FN(comisd) { return vect_comisd(c, d, a, b, imm) ? CPU_OK : sse_comis64(c, VQ(a, 0), VQ(b, 0), false); }
VEC_HANDLERS_TRY(ucomiss, 4)
VEC_HANDLERS_TRY(comiss, 4)
VEC_HANDLERS_TRY(ucomisd, 8)
VEC_HANDLERS_TRY(comisd, 8)

/* ---- conversions ---- */
/* Integer to floating. 32-bit integers are exact in binary64, all below 2^53 too: no mode matters. */
static uint64_t sse_int_to_float(struct sf_env *env, const struct sf_format *f, uint64_t value)
{
    struct sf_wide w = sf_from_int(value, true);
    struct sf_num n = sf_round(env, f, &w);
    return sf_pack(f, &n);
}
static int sse_cvt_int_to_32(struct cpu *c, union vec *d, const int64_t *v, unsigned lanes)
{
    struct sf_env env;
    uint32_t r[4];
    unsigned i;
    int fault;
    if (SSE_HOST_FLOAT && sse_fast(c)) {
        for (i = 0; i < lanes; i++)
            VD(d, i) = sse_b32((float)v[i]);
        return CPU_OK;
    }
    sse_env(c, &env);
    for (i = 0; i < lanes; i++)
        r[i] = (uint32_t)sse_int_to_float(&env, &sf_f32, (uint64_t)v[i]);
    fault = sse_raise(c, &env);
    for (i = 0; i < lanes && !fault; i++)
        VD(d, i) = r[i];
    return fault;
}
VEC_FN(cvtsi2ss) /* 32-bit source */
{
    int64_t v = sext64(VD(b, 0), 32);
    return (void)a, (void)imm, sse_cvt_int_to_32(c, d, &v, 1);
}
VEC_TRY(cvtsi2ss)
{
    (void)a, (void)imm;
    if (!SSE_HOST_FLOAT || !sse_fast(c))
        return false;
    VD(d, 0) = sse_b32((float)(int32_t)sext64(VD(b, 0), 32));
    return true;
}
VEC_HANDLERS_TRY(cvtsi2ss, 4)
VEC_FN(cvtsi2ss_q)
{
    int64_t v = (int64_t)VQ(b, 0);
    return (void)a, (void)imm, sse_cvt_int_to_32(c, d, &v, 1);
}
VEC_FN(cvtdq2ps)
{
    int64_t v[4];
    unsigned i;
    (void)a, (void)imm;
    for (i = 0; i < 4; i++)
        v[i] = sext64(VD(b, i), 32);
    return sse_cvt_int_to_32(c, d, v, 4);
}
VEC_FN(cvtpi2ps)
{
    int64_t v[2];
    (void)a, (void)imm;
    v[0] = sext64(VD(b, 0), 32);
    v[1] = sext64(VD(b, 1), 32);
    return sse_cvt_int_to_32(c, d, v, 2);
}
VEC_FN_INLINE(cvtsi2sd)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = sse_b64((double)(int32_t)sext64(VD(b, 0), 32));
    return CPU_OK;
}
VEC_TRY(cvtsi2sd_q)
{
    uint64_t v = VQ(b, 0);
    (void)a, (void)imm;
    if (v + (UINT64_C(1) << 53) > UINT64_C(1) << 54 && !(SSE_HOST_FLOAT && sse_fast(c)))
        return false;
    VQ(d, 0) = sse_b64((double)(int64_t)v);
    return true;
}
VEC_FN(cvtsi2sd_q)
{
    struct sf_env env;
    uint64_t v = VQ(b, 0);
    int fault;
    if (vect_cvtsi2sd_q(c, d, a, b, imm))
        return CPU_OK;
    sse_env(c, &env);
    v = sse_int_to_float(&env, &sf_f64, v);
    fault = sse_raise(c, &env);
    if (!fault)
        VQ(d, 0) = v;
    return fault;
}
VEC_HANDLERS_TRY(cvtsi2sd_q, 8)
VEC_FN_INLINE(cvtdq2pd)
{
    int32_t lo = (int32_t)sext64(VD(b, 0), 32), hi = (int32_t)sext64(VD(b, 1), 32);
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = sse_b64((double)lo);
    VQ(d, 1) = sse_b64((double)hi);
    return CPU_OK;
}

/* Floating to integer; low `lanes` elements to r. The fast way: truncation of a value in range, exact or with PE already known. */
static int sse_float_to_int(struct cpu *c, uint64_t *r, const struct sf_format *f, const uint64_t *v, unsigned lanes, unsigned bits, bool truncate)
{
    struct sf_env env;
    unsigned i;
    sse_env(c, &env);
    for (i = 0; i < lanes; i++) {
        struct sf_num n = sf_unpack(&env, f, v[i]);
        r[i] = sf_to_int(&env, &n, bits, truncate ? SF_CHOP : env.rounding);
    }
    return sse_raise(c, &env);
}
/* A value in range that is whole, or is to be cut with PE known already. */
EMU_ALWAYS_INLINE bool sse_try_sd2si(struct cpu *c, union vec *d, uint64_t v, unsigned bits, bool truncate)
{
    uint64_t magnitude = v & ~(UINT64_C(1) << 63), limit = bits == 32 ? UINT64_C(0x41E0000000000000) : UINT64_C(0x43E0000000000000);
    int64_t whole;
    if (magnitude >= limit || (magnitude < UINT64_C(1) << 52 && magnitude)) /* 2^31 or 2^63; denormal */
        return false;
    whole = (int64_t)sse_f64(v);
    if (sse_f64(v) != (double)whole && !(truncate && sse_fast(c)))
        return false;
    VQ(d, 0) = (uint64_t)whole;
    return true;
}
static int sse_sd2si(struct cpu *c, union vec *d, uint64_t v, unsigned bits, bool truncate)
{
    uint64_t r;
    int fault;
    if (sse_try_sd2si(c, d, v, bits, truncate))
        return CPU_OK;
    fault = sse_float_to_int(c, &r, &sf_f64, &v, 1, bits, truncate);
    if (!fault)
        VQ(d, 0) = r;
    return fault;
}
static int sse_ss2si(struct cpu *c, union vec *d, uint64_t v, unsigned bits, bool truncate)
{
    uint64_t r;
    int fault = sse_float_to_int(c, &r, &sf_f32, &v, 1, bits, truncate);
    if (!fault)
        VQ(d, 0) = r;
    return fault;
}
VEC_FN(cvtsd2si) { return (void)a, (void)imm, sse_sd2si(c, d, VQ(b, 0), 32, false); }
VEC_FN(cvtsd2si_q) { return (void)a, (void)imm, sse_sd2si(c, d, VQ(b, 0), 64, false); }
VEC_FN(cvttsd2si) { return (void)a, (void)imm, sse_sd2si(c, d, VQ(b, 0), 32, true); }
VEC_FN(cvttsd2si_q) { return (void)a, (void)imm, sse_sd2si(c, d, VQ(b, 0), 64, true); }
VEC_TRY(cvttsd2si) { return (void)a, (void)imm, sse_try_sd2si(c, d, VQ(b, 0), 32, true); }
VEC_TRY(cvttsd2si_q) { return (void)a, (void)imm, sse_try_sd2si(c, d, VQ(b, 0), 64, true); }
VEC_HANDLERS_TRY(cvttsd2si, 8)
VEC_HANDLERS_TRY(cvttsd2si_q, 8)
VEC_FN(cvtss2si) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 32, false); }
VEC_FN(cvtss2si_q) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 64, false); }
VEC_FN(cvttss2si) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 32, true); }
VEC_FN(cvttss2si_q) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 64, true); }
VEC_TRY(cvttss2si)
{
    uint32_t v = VD(b, 0);
    (void)a, (void)imm;
    if (!sse_plain32(v)) /* then binary64 holds it too */
        return false;
    return sse_try_sd2si(c, d, sse_b64((double)sse_f32(v)), 32, true);
}
VEC_HANDLERS_TRY(cvttss2si, 4)

static int sse_ps2dq(struct cpu *c, union vec *d, const union vec *b, unsigned lanes, bool truncate)
{
    uint64_t v[4] = { 0 }, r[4];
    unsigned i;
    int fault;
    for (i = 0; i < lanes; i++)
        v[i] = VD(b, i);
    fault = sse_float_to_int(c, r, &sf_f32, v, lanes, 32, truncate);
    for (i = 0; i < lanes && !fault; i++)
        VD(d, i) = (uint32_t)r[i];
    return fault;
}
static int sse_pd2dq(struct cpu *c, union vec *d, const union vec *b, bool truncate)
{
    uint64_t v[2], r[2];
    int fault;
    v[0] = VQ(b, 0);
    v[1] = VQ(b, 1);
    fault = sse_float_to_int(c, r, &sf_f64, v, 2, 32, truncate);
    if (!fault)
        VQ(d, 0) = (uint32_t)r[0] | r[1] << 32;
    return fault;
}
VEC_FN(cvtps2dq) { return (void)a, (void)imm, sse_ps2dq(c, d, b, 4, false); }
VEC_FN(cvttps2dq) { return (void)a, (void)imm, sse_ps2dq(c, d, b, 4, true); }
VEC_FN(cvtps2pi) { return (void)a, (void)imm, sse_ps2dq(c, d, b, 2, false); }
VEC_FN(cvttps2pi) { return (void)a, (void)imm, sse_ps2dq(c, d, b, 2, true); }
VEC_FN(cvtpd2pi) { return (void)a, (void)imm, sse_pd2dq(c, d, b, false); }
VEC_FN(cvttpd2pi) { return (void)a, (void)imm, sse_pd2dq(c, d, b, true); }
VEC_FN(cvtpd2dq)
{
    int fault = sse_pd2dq(c, d, b, false);
    (void)a, (void)imm;
    if (!fault)
        VQ(d, 1) = 0;
    return fault;
}
VEC_FN(cvttpd2dq)
{
    int fault = sse_pd2dq(c, d, b, true);
    (void)a, (void)imm;
    if (!fault)
        VQ(d, 1) = 0;
    return fault;
}

/* Between the two floating formats. */
VEC_TRY(cvtss2sd)
{
    uint32_t v = VD(b, 0);
    (void)c, (void)a, (void)imm;
    if (EMU_UNLIKELY(!sse_plain32(v)))
        return false;
    VQ(d, 0) = sse_b64((double)sse_f32(v));
    return true;
}
VEC_FN(cvtss2sd)
{
    struct sf_env env;
    uint64_t r;
    int fault;
    if (vect_cvtss2sd(c, d, a, b, imm))
        return CPU_OK;
    sse_env(c, &env);
    r = sf_convert(&env, &sf_f32, &sf_f64, VD(b, 0));
    fault = sse_raise(c, &env);
    if (!fault)
        VQ(d, 0) = r;
    return fault;
}
VEC_HANDLERS_TRY(cvtss2sd, 4)
VEC_FN(cvtps2pd)
{
    struct sf_env env;
    uint64_t lo, hi;
    int fault;
    (void)a, (void)imm;
    sse_env(c, &env);
    lo = sf_convert(&env, &sf_f32, &sf_f64, VD(b, 0));
    hi = sf_convert(&env, &sf_f32, &sf_f64, VD(b, 1));
    fault = sse_raise(c, &env);
    if (!fault) {
        VQ(d, 0) = lo;
        VQ(d, 1) = hi;
    }
    return fault;
}
VEC_TRY(cvtsd2ss)
{
    uint64_t v = VQ(b, 0);
    uint32_t r;
    (void)a, (void)imm;
    if (!SSE_HOST_FLOAT || !sse_fast(c) || !sse_plain64(v))
        return false;
    r = sse_b32((float)sse_f64(v));
    if (!sse_safe32(r) && v << 1)
        return false;
    VD(d, 0) = r;
    return true;
}
VEC_FN(cvtsd2ss)
{
    struct sf_env env;
    uint32_t r;
    int fault;
    if (vect_cvtsd2ss(c, d, a, b, imm))
        return CPU_OK;
    sse_env(c, &env);
    r = (uint32_t)sf_convert(&env, &sf_f64, &sf_f32, VQ(b, 0));
    fault = sse_raise(c, &env);
    if (!fault)
        VD(d, 0) = r;
    return fault;
}
VEC_HANDLERS_TRY(cvtsd2ss, 8)
VEC_FN(cvtpd2ps)
{
    struct sf_env env;
    uint64_t lo, hi;
    int fault;
    (void)a, (void)imm;
    sse_env(c, &env);
    lo = sf_convert(&env, &sf_f64, &sf_f32, VQ(b, 0));
    hi = sf_convert(&env, &sf_f64, &sf_f32, VQ(b, 1));
    fault = sse_raise(c, &env);
    if (!fault) {
        VQ(d, 0) = lo | hi << 32;
        VQ(d, 1) = 0;
    }
    return fault;
}

/* ---- moves and shuffles ---- */
VEC_FN_INLINE(sse_mov128)
{
    (void)c, (void)a, (void)imm;
    memmove(d, b, 16);
    return CPU_OK;
}
VEC_FN_INLINE(sse_mov64)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN_INLINE(sse_mov64_zero)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    VQ(d, 1) = 0;
    return CPU_OK;
}
VEC_FN_INLINE(sse_mov32)
{
    (void)c, (void)a, (void)imm;
    VD(d, 0) = VD(b, 0);
    return CPU_OK;
}
VEC_FN_INLINE(sse_mov32_zero)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VD(b, 0);
    VQ(d, 1) = 0;
    return CPU_OK;
}
VEC_FN_INLINE(movhlps) /* and the store of MOVHPx: the high half down */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 1);
    return CPU_OK;
}
VEC_FN_INLINE(movlhps) /* and the load of MOVHPx */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 1) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN_INLINE(movddup)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 1) = VQ(d, 0) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN(movsldup)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&vr, 1) = VD(&vb, 0); VD(&vr, 2) = VD(&vr, 3) = VD(&vb, 2); })
VEC_FN(movshdup)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&vr, 1) = VD(&vb, 1); VD(&vr, 2) = VD(&vr, 3) = VD(&vb, 3); })
VEC_FN_INLINE(unpcklps)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&va, 0); VD(&vr, 1) = VD(&vb, 0); VD(&vr, 2) = VD(&va, 1); VD(&vr, 3) = VD(&vb, 1); })
VEC_FN_INLINE(unpckhps)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&va, 2); VD(&vr, 1) = VD(&vb, 2); VD(&vr, 2) = VD(&va, 3); VD(&vr, 3) = VD(&vb, 3); })
VEC_FN_INLINE(unpcklpd)
VEC_BODY_N(16, { VQ(&vr, 0) = VQ(&va, 0); VQ(&vr, 1) = VQ(&vb, 0); })
VEC_FN_INLINE(unpckhpd)
VEC_BODY_N(16, { VQ(&vr, 0) = VQ(&va, 1); VQ(&vr, 1) = VQ(&vb, 1); })
VEC_FN_INLINE(shufps)
VEC_BODY_N(16, {
    VD(&vr, 0) = VD(&va, imm & 3);
    VD(&vr, 1) = VD(&va, imm >> 2 & 3);
    VD(&vr, 2) = VD(&vb, imm >> 4 & 3);
    VD(&vr, 3) = VD(&vb, imm >> 6 & 3);
})
VEC_FN_INLINE(shufpd)
VEC_BODY_N(16, { VQ(&vr, 0) = VQ(&va, imm & 1); VQ(&vr, 1) = VQ(&vb, imm >> 1 & 1); })
VEC_FN_INLINE(movmskps)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VD(b, 0) >> 31 | VD(b, 1) >> 31 << 1 | VD(b, 2) >> 31 << 2 | VD(b, 3) >> 31 << 3;
    return CPU_OK;
}
VEC_FN_INLINE(movmskpd)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0) >> 63 | VQ(b, 1) >> 63 << 1;
    return CPU_OK;
}
#define SSE_LOGIC(name, expr)                                                                                          \
    VEC_FN_INLINE(name) VEC_LANES_N(uint64_t, uint64_t, 16, expr)
SSE_LOGIC(andps, x & y)
SSE_LOGIC(andnps, ~x & y)
SSE_LOGIC(orps, x | y)
SSE_LOGIC(xorps, x ^ y)
#undef SSE_LOGIC

/* ---- handlers (uop.h) ---- */
VEC_HANDLERS_LOAD(sse_mov128, 16, vec_load16)
VEC_HANDLERS_LOAD(sse_mov64_zero, 8, VEC_LOAD_8_ZERO)
VEC_HANDLERS_LOAD(sse_mov32_zero, 4, VEC_LOAD_4_ZERO)
VEC_HANDLERS_LOAD(sse_mov64, 8, VEC_LOAD_8_LOW)
VEC_HANDLERS(sse_mov32, 4)
VEC_HANDLERS(movhlps, 16)
VEC_HANDLERS_LOAD(movlhps, 8, VEC_LOAD_8_HIGH)
VEC_HANDLERS(movddup, 8)
VEC_HANDLERS(unpcklps, 16)
VEC_HANDLERS(unpckhps, 16)
VEC_HANDLERS(unpcklpd, 16)
VEC_HANDLERS(unpckhpd, 16)
VEC_HANDLERS(shufps, 16)
VEC_HANDLERS(shufpd, 16)
VEC_HANDLERS(movmskps, 16)
VEC_HANDLERS(movmskpd, 16)
VEC_HANDLERS(andps, 16)
VEC_HANDLERS(andnps, 16)
VEC_HANDLERS(orps, 16)
VEC_HANDLERS(xorps, 16)
VEC_HANDLERS(cvtsi2ss_q, 8)
VEC_HANDLERS(cvtsi2sd, 4)
VEC_HANDLERS(cvttss2si_q, 4)
VEC_HANDLERS(cvtdq2ps, 16)
VEC_HANDLERS(cvtdq2pd, 8)
VEC_HANDLERS(cvttps2dq, 16)
VEC_HANDLERS(cvtps2pd, 8)
VEC_HANDLERS(sqrtps, 16)
VEC_HANDLERS(sqrtpd, 16)
VEC_HANDLERS(sqrtss, 4)
VEC_HANDLERS(sqrtsd, 8)
VEC_HANDLERS(cmpps, 16)
VEC_HANDLERS(cmppd, 16)

/* ---- MXCSR ---- */
static int sse_ldmxcsr(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    int r = insn_load_rm(c, i, 4, &v);
    if (r)
        return r;
    if (v & ~UINT64_C(0xFFFF))
        return cpu_raise_error(c, EXC_GP, 0);
    c->mxcsr = (uint32_t)v;
    return CPU_OK;
}
static int sse_stmxcsr(struct cpu *c, const struct insn *i) { return insn_store_rm(c, i, 4, c->mxcsr); }

/* ---- the table ---- */
#define SSE_S ROW_SSE
#define SSE_U (ROW_SSE | ROW_UNALIGNED)
#define SSE_WU (ROW_SSE | ROW_UNALIGNED | ROW_WRITES_MEM)
#define SSE_W (ROW_SSE | ROW_WRITES_MEM)
#define SSE_H(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC_H(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, 0, needs, attr, 0, fn)
#define SSE_T(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC_STORE(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, 0, needs, attr, 0, fn)
#define SSE_R(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, 0, needs, attr, 0, fn)
#define SSE_I(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC_H(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, OPND_Ib, needs, attr, 0, fn)
#define SSE_F(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC_H(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, 0, needs, attr, FLAGS_ARITH, fn)
/* ps, pd, ss, sd forms of one opcode */
#define SSE_FOUR(op, name, fn)                                                                                         \
    SSE_H(op, PFX_NP, name "ps", Vx, Wx, CPU_SSE, SSE_S, fn##ps), SSE_H(op, PFX_66, name "pd", Vx, Wx, CPU_SSE2, SSE_S, fn##pd), \
    SSE_H(op, PFX_F3, name "ss", Vx, Wd, CPU_SSE, SSE_S, fn##ss), SSE_H(op, PFX_F2, name "sd", Vx, Wq, CPU_SSE2, SSE_S, fn##sd)

static const struct insn_row sse_rows[] = {
    SSE_H(0x10, PFX_NP, "movups", Vx, Wx, CPU_SSE, SSE_U, sse_mov128),
    SSE_H(0x10, PFX_66, "movupd", Vx, Wx, CPU_SSE2, SSE_U, sse_mov128),
    SSE_H(0x10, PFX_F3 | MOD_REG, "movss", Vx, Ux, CPU_SSE, SSE_S, sse_mov32),
    SSE_H(0x10, PFX_F3 | MOD_MEM, "movss", Vx, Wd, CPU_SSE, SSE_S, sse_mov32_zero),
    SSE_H(0x10, PFX_F2 | MOD_REG, "movsd", Vx, Ux, CPU_SSE2, SSE_S, sse_mov64),
    SSE_H(0x10, PFX_F2 | MOD_MEM, "movsd", Vx, Wq, CPU_SSE2, SSE_S, sse_mov64_zero),
    SSE_T(0x11, PFX_NP, "movups", Wx, Vx, CPU_SSE, SSE_WU, sse_mov128),
    SSE_T(0x11, PFX_66, "movupd", Wx, Vx, CPU_SSE2, SSE_WU, sse_mov128),
    SSE_T(0x11, PFX_F3, "movss", Wd, Vx, CPU_SSE, SSE_W, sse_mov32),
    SSE_T(0x11, PFX_F2, "movsd", Wq, Vx, CPU_SSE2, SSE_W, sse_mov64),
    SSE_H(0x12, PFX_NP | MOD_REG, "movhlps", Vx, Ux, CPU_SSE, SSE_S, movhlps),
    SSE_H(0x12, PFX_NP | MOD_MEM, "movlps", Vx, Wq, CPU_SSE, SSE_S, sse_mov64),
    SSE_H(0x12, PFX_66 | MOD_MEM, "movlpd", Vx, Wq, CPU_SSE2, SSE_S, sse_mov64),
    SSE_H(0x12, PFX_F2, "movddup", Vx, Wq, CPU_SSE3, SSE_S, movddup),
    SSE_R(0x12, PFX_F3, "movsldup", Vx, Wx, CPU_SSE3, SSE_S, movsldup),
    SSE_T(0x13, PFX_NP | MOD_MEM, "movlps", Wq, Vx, CPU_SSE, SSE_W, sse_mov64),
    SSE_T(0x13, PFX_66 | MOD_MEM, "movlpd", Wq, Vx, CPU_SSE2, SSE_W, sse_mov64),
    SSE_H(0x14, PFX_NP, "unpcklps", Vx, Wx, CPU_SSE, SSE_S, unpcklps),
    SSE_H(0x14, PFX_66, "unpcklpd", Vx, Wx, CPU_SSE2, SSE_S, unpcklpd),
    SSE_H(0x15, PFX_NP, "unpckhps", Vx, Wx, CPU_SSE, SSE_S, unpckhps),
    SSE_H(0x15, PFX_66, "unpckhpd", Vx, Wx, CPU_SSE2, SSE_S, unpckhpd),
    SSE_H(0x16, PFX_NP | MOD_REG, "movlhps", Vx, Ux, CPU_SSE, SSE_S, movlhps),
    SSE_H(0x16, PFX_NP | MOD_MEM, "movhps", Vx, Wq, CPU_SSE, SSE_S, movlhps),
    SSE_H(0x16, PFX_66 | MOD_MEM, "movhpd", Vx, Wq, CPU_SSE2, SSE_S, movlhps),
    SSE_R(0x16, PFX_F3, "movshdup", Vx, Wx, CPU_SSE3, SSE_S, movshdup),
    SSE_R(0x17, PFX_NP | MOD_MEM, "movhps", Wq, Vx, CPU_SSE, SSE_W, movhlps),
    SSE_R(0x17, PFX_66 | MOD_MEM, "movhpd", Wq, Vx, CPU_SSE2, SSE_W, movhlps),
    SSE_H(0x28, PFX_NP, "movaps", Vx, Wx, CPU_SSE, SSE_S, sse_mov128),
    SSE_H(0x28, PFX_66, "movapd", Vx, Wx, CPU_SSE2, SSE_S, sse_mov128),
    SSE_T(0x29, PFX_NP, "movaps", Wx, Vx, CPU_SSE, SSE_W, sse_mov128),
    SSE_T(0x29, PFX_66, "movapd", Wx, Vx, CPU_SSE2, SSE_W, sse_mov128),
    SSE_T(0x2B, PFX_NP | MOD_MEM, "movntps", Wx, Vx, CPU_SSE, SSE_W, sse_mov128),
    SSE_T(0x2B, PFX_66 | MOD_MEM, "movntpd", Wx, Vx, CPU_SSE2, SSE_W, sse_mov128),

    SSE_R(0x2A, PFX_NP | MOD_REG, "cvtpi2ps", Vx, Nq, CPU_SSE, ROW_SSE | ROW_MMX, cvtpi2ps),
    SSE_R(0x2A, PFX_NP | MOD_MEM, "cvtpi2ps", Vx, Wq, CPU_SSE, ROW_SSE, cvtpi2ps), /* memory forms: no MMX state touched */
    SSE_H(0x2A, PFX_66 | MOD_REG, "cvtpi2pd", Vx, Nq, CPU_SSE2, ROW_SSE | ROW_MMX, cvtdq2pd),
    SSE_H(0x2A, PFX_66 | MOD_MEM, "cvtpi2pd", Vx, Wq, CPU_SSE2, ROW_SSE, cvtdq2pd),
    SSE_H(0x2A, PFX_F3 | W0, "cvtsi2ss", Vx, Ed, CPU_SSE, SSE_S, cvtsi2ss),
    SSE_H(0x2A, PFX_F3 | W1, "cvtsi2ss", Vx, Eq, CPU_SSE, SSE_S, cvtsi2ss_q),
    SSE_H(0x2A, PFX_F2 | W0, "cvtsi2sd", Vx, Ed, CPU_SSE2, SSE_S, cvtsi2sd),
    SSE_H(0x2A, PFX_F2 | W1, "cvtsi2sd", Vx, Eq, CPU_SSE2, SSE_S, cvtsi2sd_q),
    SSE_R(0x2C, PFX_NP, "cvttps2pi", Pq, Wq, CPU_SSE, ROW_SSE | ROW_MMX, cvttps2pi),
    SSE_R(0x2C, PFX_66, "cvttpd2pi", Pq, Wx, CPU_SSE2, ROW_SSE | ROW_MMX, cvttpd2pi),
    SSE_H(0x2C, PFX_F3 | W0, "cvttss2si", Gd, Wd, CPU_SSE, SSE_S, cvttss2si),
    SSE_H(0x2C, PFX_F3 | W1, "cvttss2si", Gq, Wd, CPU_SSE, SSE_S, cvttss2si_q),
    SSE_H(0x2C, PFX_F2 | W0, "cvttsd2si", Gd, Wq, CPU_SSE2, SSE_S, cvttsd2si),
    SSE_H(0x2C, PFX_F2 | W1, "cvttsd2si", Gq, Wq, CPU_SSE2, SSE_S, cvttsd2si_q),
    SSE_R(0x2D, PFX_NP, "cvtps2pi", Pq, Wq, CPU_SSE, ROW_SSE | ROW_MMX, cvtps2pi),
    SSE_R(0x2D, PFX_66, "cvtpd2pi", Pq, Wx, CPU_SSE2, ROW_SSE | ROW_MMX, cvtpd2pi),
    SSE_R(0x2D, PFX_F3 | W0, "cvtss2si", Gd, Wd, CPU_SSE, SSE_S, cvtss2si),
    SSE_R(0x2D, PFX_F3 | W1, "cvtss2si", Gq, Wd, CPU_SSE, SSE_S, cvtss2si_q),
    SSE_R(0x2D, PFX_F2 | W0, "cvtsd2si", Gd, Wq, CPU_SSE2, SSE_S, cvtsd2si),
    SSE_R(0x2D, PFX_F2 | W1, "cvtsd2si", Gq, Wq, CPU_SSE2, SSE_S, cvtsd2si_q),
    SSE_F(0x2E, PFX_NP, "ucomiss", Vx, Wd, CPU_SSE, SSE_S, ucomiss),
    SSE_F(0x2E, PFX_66, "ucomisd", Vx, Wq, CPU_SSE2, SSE_S, ucomisd),
    SSE_F(0x2F, PFX_NP, "comiss", Vx, Wd, CPU_SSE, SSE_S, comiss),
    SSE_F(0x2F, PFX_66, "comisd", Vx, Wq, CPU_SSE2, SSE_S, comisd),

    SSE_H(0x50, PFX_NP | MOD_REG, "movmskps", Gd, Ux, CPU_SSE, SSE_S, movmskps),
    SSE_H(0x50, PFX_66 | MOD_REG, "movmskpd", Gd, Ux, CPU_SSE2, SSE_S, movmskpd),
    SSE_FOUR(0x51, "sqrt", sqrt),
    SSE_R(0x52, PFX_NP, "rsqrtps", Vx, Wx, CPU_SSE, SSE_S, rsqrtps),
    SSE_R(0x52, PFX_F3, "rsqrtss", Vx, Wd, CPU_SSE, SSE_S, rsqrtss),
    SSE_R(0x53, PFX_NP, "rcpps", Vx, Wx, CPU_SSE, SSE_S, rcpps),
    SSE_R(0x53, PFX_F3, "rcpss", Vx, Wd, CPU_SSE, SSE_S, rcpss),
    SSE_H(0x54, PFX_NP, "andps", Vx, Wx, CPU_SSE, SSE_S, andps),
    SSE_H(0x54, PFX_66, "andpd", Vx, Wx, CPU_SSE2, SSE_S, andps),
    SSE_H(0x55, PFX_NP, "andnps", Vx, Wx, CPU_SSE, SSE_S, andnps),
    SSE_H(0x55, PFX_66, "andnpd", Vx, Wx, CPU_SSE2, SSE_S, andnps),
    SSE_H(0x56, PFX_NP, "orps", Vx, Wx, CPU_SSE, SSE_S, orps),
    SSE_H(0x56, PFX_66, "orpd", Vx, Wx, CPU_SSE2, SSE_S, orps),
    SSE_H(0x57, PFX_NP, "xorps", Vx, Wx, CPU_SSE, SSE_S, xorps),
    SSE_H(0x57, PFX_66, "xorpd", Vx, Wx, CPU_SSE2, SSE_S, xorps),
    SSE_FOUR(0x58, "add", add),
    SSE_FOUR(0x59, "mul", mul),
    SSE_H(0x5A, PFX_NP, "cvtps2pd", Vx, Wq, CPU_SSE2, SSE_S, cvtps2pd),
    SSE_R(0x5A, PFX_66, "cvtpd2ps", Vx, Wx, CPU_SSE2, SSE_S, cvtpd2ps),
    SSE_H(0x5A, PFX_F3, "cvtss2sd", Vx, Wd, CPU_SSE2, SSE_S, cvtss2sd),
    SSE_H(0x5A, PFX_F2, "cvtsd2ss", Vx, Wq, CPU_SSE2, SSE_S, cvtsd2ss),
    SSE_H(0x5B, PFX_NP, "cvtdq2ps", Vx, Wx, CPU_SSE2, SSE_S, cvtdq2ps),
    SSE_R(0x5B, PFX_66, "cvtps2dq", Vx, Wx, CPU_SSE2, SSE_S, cvtps2dq),
    SSE_H(0x5B, PFX_F3, "cvttps2dq", Vx, Wx, CPU_SSE2, SSE_S, cvttps2dq),
    SSE_FOUR(0x5C, "sub", sub),
    SSE_FOUR(0x5D, "min", min),
    SSE_FOUR(0x5E, "div", div),
    SSE_FOUR(0x5F, "max", max),
    SSE_R(0x7C, PFX_66, "haddpd", Vx, Wx, CPU_SSE3, SSE_S, haddpd),
    SSE_R(0x7C, PFX_F2, "haddps", Vx, Wx, CPU_SSE3, SSE_S, haddps),
    SSE_R(0x7D, PFX_66, "hsubpd", Vx, Wx, CPU_SSE3, SSE_S, hsubpd),
    SSE_R(0x7D, PFX_F2, "hsubps", Vx, Wx, CPU_SSE3, SSE_S, hsubps),
    SSE_I(0xC2, PFX_NP, "cmpps", Vx, Wx, CPU_SSE, SSE_S, cmpps),
    SSE_I(0xC2, PFX_66, "cmppd", Vx, Wx, CPU_SSE2, SSE_S, cmppd),
    SSE_I(0xC2, PFX_F3, "cmpss", Vx, Wd, CPU_SSE, SSE_S, cmpss),
    SSE_I(0xC2, PFX_F2, "cmpsd", Vx, Wq, CPU_SSE2, SSE_S, cmpsd),
    SSE_I(0xC6, PFX_NP, "shufps", Vx, Wx, CPU_SSE, SSE_S, shufps),
    SSE_I(0xC6, PFX_66, "shufpd", Vx, Wx, CPU_SSE2, SSE_S, shufpd),
    SSE_R(0xD0, PFX_66, "addsubpd", Vx, Wx, CPU_SSE3, SSE_S, addsubpd),
    SSE_R(0xD0, PFX_F2, "addsubps", Vx, Wx, CPU_SSE3, SSE_S, addsubps),
    SSE_R(0xE6, PFX_66, "cvttpd2dq", Vx, Wx, CPU_SSE2, SSE_S, cvttpd2dq),
    SSE_H(0xE6, PFX_F3, "cvtdq2pd", Vx, Wq, CPU_SSE2, SSE_S, cvtdq2pd),
    SSE_R(0xE6, PFX_F2, "cvtpd2dq", Vx, Wx, CPU_SSE2, SSE_S, cvtpd2dq),
    ROW_CALL(ENC0F(0xAE) | PFX_NP | SLASH(2) | MOD_MEM, "ldmxcsr", OPND_Md, 0, 0, CPU_SSE, ROW_SSE, 0, 0, sse_ldmxcsr),
    ROW_CALL(ENC0F(0xAE) | PFX_NP | SLASH(3) | MOD_MEM, "stmxcsr", OPND_Md, 0, 0, CPU_SSE, ROW_SSE | ROW_WRITES_MEM, 0, 0, sse_stmxcsr),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
};
EMU_PRIV const struct insn_row *cpu_rows_sse(void) { return sse_rows; }
#undef SSE_S
#undef SSE_U
#undef SSE_W
#undef SSE_WU
#undef SSE_R
#undef SSE_H
#undef SSE_T
#undef SSE_I
#undef SSE_F
#undef SSE_FOUR
#undef SSE_E32
#undef SSE_HOST_FLOAT
