/* cpu/softfloat.c - floating point without a floating-point unit: see vec.h for the model, the theory and the invariants.
 *
 * Models     IEEE 754-2008 §4-7 as Intel implements it: SDM vol. 1 §4.8.3.5 (NaNs), §4.9.1.5 (tininess after rounding), §8.5, §11.5.
 * Contract   Called by sse.c, sse4.c and x87.c. Pure functions of their arguments: the environment carries modes in, flags out.
 * Invariants as in vec.h.
 * Missing    binary16 and fused multiply-add (F16C, FMA are not offered yet).
 */
#include "../machine.h"
#include "cpu.h"
#include "vec.h"

#define SF_TOP (UINT64_C(1) << 63)
#define SF_QUIET (UINT64_C(1) << 62)
#define SF_BIAS_ADJUST 24576 /* SDM vol. 1 §8.5.4, §8.5.5: unmasked overflow and underflow */

/* ---- packing ---- */

EMU_PRIV struct sf_num sf_unpack(const struct sf_env *env, const struct sf_format *f, uint64_t bits)
{
    struct sf_num n;
    unsigned frac_bits = f->precision - 1u;
    uint64_t frac = bits & ((UINT64_C(1) << frac_bits) - 1);
    unsigned exp_max = (1u << f->exp_bits) - 1, exp = (unsigned)(bits >> frac_bits) & exp_max;
    n.sign = (bits >> (frac_bits + f->exp_bits)) & 1;
    n.denormal = false;
    n.mant = frac << (64 - f->precision);
    n.exp = 0;
    if (exp == exp_max) {
        n.cls = !frac ? SF_INF : (frac >> (frac_bits - 1)) ? SF_QNAN : SF_SNAN;
        n.mant |= SF_TOP;
    } else if (exp) {
        n.cls = SF_FINITE;
        n.mant |= SF_TOP;
        n.exp = (int32_t)exp - f->emax;
    } else if (!frac || env->daz) {
        n.cls = SF_ZERO;
        n.mant = 0;
    } else {
        unsigned shift = clz64(n.mant);
        n.cls = SF_FINITE;
        n.denormal = true;
        n.mant <<= shift;
        n.exp = f->emin - (int32_t)shift;
    }
    return n;
}

EMU_PRIV uint64_t sf_pack(const struct sf_format *f, const struct sf_num *n)
{
    unsigned frac_bits = f->precision - 1u;
    uint64_t sign = (uint64_t)n->sign << (frac_bits + f->exp_bits);
    uint64_t exp_max = (UINT64_C(1) << f->exp_bits) - 1;
    uint64_t frac = (n->mant >> (64 - f->precision)) & ((UINT64_C(1) << frac_bits) - 1);
    switch (n->cls) {
    case SF_ZERO: return sign;
    case SF_INF: return sign | exp_max << frac_bits;
    case SF_FINITE:
        if (!(n->mant & SF_TOP))
            return sign | frac;
        return sign | (uint64_t)(n->exp + f->emax) << frac_bits | frac;
    default: return sign | exp_max << frac_bits | frac;
    }
}

EMU_PRIV struct sf_num sf_unpack80(const struct x87_reg *r)
{
    struct sf_num n;
    unsigned exp = r->exp & 0x7FFF;
    n.sign = r->exp >> 15;
    n.mant = r->mant;
    n.denormal = false;
    n.exp = (int32_t)exp - 16383;
    if (exp == 0) {
        unsigned shift;
        if (!n.mant) {
            n.cls = SF_ZERO;
            return n;
        }
        shift = clz64(n.mant); /* 0: a pseudo-denormal, worth its mant at exponent 1 */
        n.cls = SF_FINITE;
        n.denormal = true;
        n.mant <<= shift;
        n.exp = -16382 - (int32_t)shift;
    } else if (!(n.mant & SF_TOP)) {
        n.cls = SF_UNSUPPORTED;
    } else if (exp == 0x7FFF) {
        n.cls = !(n.mant << 1) ? SF_INF : (n.mant & SF_QUIET) ? SF_QNAN : SF_SNAN;
    } else {
        n.cls = SF_FINITE;
    }
    return n;
}

EMU_PRIV struct x87_reg sf_pack80(const struct sf_num *n)
{
    struct x87_reg r;
    unsigned exp;
    r.mant = n->mant;
    switch (n->cls) {
    case SF_ZERO: exp = 0; r.mant = 0; break;
    case SF_FINITE: exp = n->mant & SF_TOP ? (unsigned)(n->exp + 16383) & 0x7FFF : 0; break;
    case SF_INF: exp = 0x7FFF; r.mant = SF_TOP; break;
    default: exp = 0x7FFF; break;
    }
    r.exp = (uint16_t)(exp | (n->sign ? 0x8000u : 0u));
    return r;
}

/* ---- NaNs ---- */

EMU_PRIV struct sf_num sf_default_nan(void)
{
    struct sf_num n = { SF_TOP | SF_QUIET, 0, SF_QNAN, true, false };
    return n;
}

EMU_PRIV struct sf_num sf_invalid(struct sf_env *env)
{
    env->flags |= SF_IE;
    return sf_default_nan();
}

static bool sf_is_nan(const struct sf_num *n) { return n->cls >= SF_QNAN; }

/* SDM vol. 1 table 4-7. SSE: the first operand that is a NaN. x87: a quiet one before a signalling one, else the larger significand,
 * and of equal ones the positive. */
EMU_PRIV struct sf_num sf_propagate(struct sf_env *env, const struct sf_num *a, const struct sf_num *b)
{
    struct sf_num n;
    if (a->cls == SF_UNSUPPORTED || b->cls == SF_UNSUPPORTED)
        return sf_invalid(env);
    if (a->cls == SF_SNAN || b->cls == SF_SNAN)
        env->flags |= SF_IE;
    if (!sf_is_nan(b))
        n = *a;
    else if (!sf_is_nan(a))
        n = *b;
    else if (!env->x87)
        n = *a;
    else if (a->cls != b->cls)
        n = a->cls == SF_QNAN ? *a : *b;
    else if (a->mant != b->mant)
        n = a->mant > b->mant ? *a : *b;
    else
        n = a->sign ? *b : *a;
    n.cls = SF_QNAN;
    n.mant |= SF_QUIET;
    return n;
}

static struct sf_wide sf_wide_of(const struct sf_num *n)
{
    struct sf_wide w;
    w.hi = n->mant;
    w.lo = 0;
    w.exp = n->exp;
    w.cls = n->cls;
    w.sign = n->sign;
    return w;
}
EMU_PRIV struct sf_wide sf_widen(const struct sf_num *n) { return sf_wide_of(n); }
static struct sf_wide sf_wide_nan(struct sf_env *env, const struct sf_num *a, const struct sf_num *b)
{
    struct sf_num n = sf_propagate(env, a, b);
    return sf_wide_of(&n);
}
static struct sf_wide sf_wide_invalid(struct sf_env *env)
{
    struct sf_num n = sf_invalid(env);
    return sf_wide_of(&n);
}
static struct sf_wide sf_wide_special(unsigned cls, bool sign)
{
    struct sf_wide w;
    w.hi = w.lo = 0;
    w.exp = 0;
    w.cls = (uint8_t)cls;
    w.sign = sign;
    if (cls == SF_INF)
        w.hi = SF_TOP;
    return w;
}

/* ---- rounding ---- */

/* hi:lo >> count, everything shifted out jammed into bit 0. */
static void sf_shift_right_jam(uint64_t *hi, uint64_t *lo, uint32_t count)
{
    uint64_t lost;
    if (!count)
        return;
    if (count < 64) {
        lost = *lo << (64 - count);
        *lo = *lo >> count | *hi << (64 - count);
        *hi >>= count;
    } else if (count == 64) {
        lost = *lo;
        *lo = *hi;
        *hi = 0;
    } else if (count < 128) {
        lost = *lo | *hi << (128 - count);
        *lo = *hi >> (count - 64);
        *hi = 0;
    } else {
        lost = *hi | *lo;
        *hi = *lo = 0;
    }
    *lo |= lost != 0;
}

/* Must hi:lo, cut to its upper `keep` bits (1-64), be incremented in its last place? */
static bool sf_must_increment(unsigned rounding, bool sign, uint64_t hi, uint64_t lo, unsigned keep, bool *inexact)
{
    uint64_t below, half = SF_TOP, last; /* below: the first 64 bits cut off, jammed */
    if (keep == 64) {
        below = lo;
        last = hi & 1;
    } else {
        below = hi << keep | (lo >> (64 - keep));
        if (lo << keep)
            below |= 1;
        last = (hi >> (64 - keep)) & 1;
    }
    *inexact = below != 0;
    switch (rounding) {
    case SF_NEAREST: return below > half || (below == half && last);
    case SF_DOWN: return sign && below;
    case SF_UP: return !sign && below;
    default: return false;
    }
}

static struct sf_num sf_overflow(struct sf_env *env, const struct sf_format *f, bool sign)
{
    struct sf_num n;
    bool to_inf = env->rounding == SF_NEAREST || env->rounding == (sign ? SF_DOWN : SF_UP);
    env->flags |= SF_OE | SF_PE;
    env->rounded_up = to_inf;
    n.sign = sign;
    n.denormal = false;
    n.cls = to_inf ? SF_INF : SF_FINITE;
    n.exp = f->emax;
    n.mant = to_inf ? SF_TOP : UINT64_MAX << (64 - f->precision);
    return n;
}

EMU_PRIV struct sf_num sf_round(struct sf_env *env, const struct sf_format *f, const struct sf_wide *w)
{
    struct sf_num n;
    uint64_t hi = w->hi, lo = w->lo, ulp = UINT64_C(1) << (64 - f->precision);
    int32_t exp = w->exp;
    bool inexact, up, tiny = false, lifted = false;

    n.sign = w->sign;
    n.cls = w->cls;
    n.denormal = false;
    n.mant = hi;
    n.exp = exp;
    env->rounded_up = false;
    if (w->cls != SF_FINITE)
        return n;
    if (exp < f->emin) {
        bool carries = sf_must_increment(env->rounding, w->sign, hi, lo, f->precision, &inexact) && hi >= (uint64_t)(0 - ulp);
        tiny = exp + carries < f->emin;
        if (tiny && !(env->masked & SF_UE)) { /* the rounded result with its exponent lifted back into the range (SSE: nobody sees it) */
            env->flags |= SF_UE;
            exp += SF_BIAS_ADJUST;
            tiny = false;
            lifted = true;
            if (exp < f->emin) { /* FSCALE can be farther away */
                n.cls = SF_ZERO;
                n.mant = 0;
                env->flags |= SF_PE;
                return n;
            }
        }
        if (tiny && env->ftz && (env->masked & SF_UE)) {
            env->flags |= SF_UE | SF_PE;
            n.cls = SF_ZERO;
            n.mant = 0;
            return n;
        }
        if (exp < f->emin) {
            sf_shift_right_jam(&hi, &lo, (uint32_t)(f->emin - exp));
            exp = f->emin;
        }
    }
    up = sf_must_increment(env->rounding, w->sign, hi, lo, f->precision, &inexact);
    hi &= (uint64_t)(0 - ulp);
    if (up) {
        hi += ulp;
        if (!hi) {
            hi = SF_TOP;
            exp++;
        }
    }
    if (exp > f->emax && !lifted) {
        if (env->masked & SF_OE)
            return sf_overflow(env, f, w->sign);
        if (exp - SF_BIAS_ADJUST > f->emax) { /* FSCALE again: infinity in every mode */
            n = sf_overflow(env, f, w->sign);
            n.cls = SF_INF;
            n.mant = SF_TOP;
            env->rounded_up = true;
            return n;
        }
        env->flags |= SF_OE;
        exp -= SF_BIAS_ADJUST;
    }
    if (inexact) {
        env->flags |= SF_PE;
        env->rounded_up = up;
        if (tiny)
            env->flags |= SF_UE;
    }
    n.mant = hi;
    n.exp = exp;
    if (!hi)
        n.cls = SF_ZERO;
    return n;
}

/* ---- arithmetic ---- */

static void sf_denormal_flag(struct sf_env *env, const struct sf_num *a, const struct sf_num *b)
{
    if (a->denormal || b->denormal)
        env->flags |= SF_DE;
}

EMU_PRIV struct sf_wide sf_add(struct sf_env *env, const struct sf_num *a, const struct sf_num *b, bool subtract)
{
    struct sf_wide w;
    const struct sf_num *big = a, *small = b;
    bool bsign = b->sign ^ subtract, differ = a->sign != bsign;
    uint64_t hi, lo, shi, slo;
    unsigned shift;

    if (sf_is_nan(a) || sf_is_nan(b))
        return sf_wide_nan(env, a, b);
    if (a->cls == SF_INF || b->cls == SF_INF) {
        if (a->cls == b->cls && differ)
            return sf_wide_invalid(env);
        sf_denormal_flag(env, a, b);
        return sf_wide_special(SF_INF, a->cls == SF_INF ? a->sign : bsign);
    }
    sf_denormal_flag(env, a, b);
    if (a->cls == SF_ZERO && b->cls == SF_ZERO)
        return sf_wide_special(SF_ZERO, differ ? env->rounding == SF_DOWN : a->sign);
    if (b->cls == SF_ZERO)
        return sf_wide_of(a);
    if (a->cls == SF_ZERO) {
        w = sf_wide_of(b);
        w.sign = bsign;
        return w;
    }
    if (a->exp < b->exp || (a->exp == b->exp && a->mant < b->mant)) {
        big = b;
        small = a;
    }
    w.cls = SF_FINITE;
    w.sign = big == a ? a->sign : bsign;
    w.exp = big->exp;
    hi = big->mant;
    lo = 0;
    shi = small->mant;
    slo = 0;
    sf_shift_right_jam(&shi, &slo, (uint32_t)(big->exp - small->exp));
    if (!differ) {
        lo = slo;
        hi += shi;
        if (hi < shi) { /* carry */
            lo = (lo >> 1 | hi << 63) | (lo & 1);
            hi = hi >> 1 | SF_TOP;
            w.exp++;
        }
    } else {
        lo = 0 - slo;
        hi = hi - shi - (slo != 0);
        if (!(hi | lo))
            return sf_wide_special(SF_ZERO, env->rounding == SF_DOWN);
        if (!hi) {
            hi = lo;
            lo = 0;
            w.exp -= 64;
        }
        shift = clz64(hi);
        if (shift) {
            hi = hi << shift | lo >> (64 - shift);
            lo <<= shift;
            w.exp -= (int32_t)shift;
        }
    }
    w.hi = hi;
    w.lo = lo;
    return w;
}

EMU_PRIV struct sf_wide sf_mul(struct sf_env *env, const struct sf_num *a, const struct sf_num *b)
{
    struct sf_wide w;
    bool sign = a->sign ^ b->sign;
    if (sf_is_nan(a) || sf_is_nan(b))
        return sf_wide_nan(env, a, b);
    if (a->cls == SF_INF || b->cls == SF_INF) {
        if (a->cls == SF_ZERO || b->cls == SF_ZERO)
            return sf_wide_invalid(env);
        sf_denormal_flag(env, a, b);
        return sf_wide_special(SF_INF, sign);
    }
    sf_denormal_flag(env, a, b);
    if (a->cls == SF_ZERO || b->cls == SF_ZERO)
        return sf_wide_special(SF_ZERO, sign);
    w.cls = SF_FINITE;
    w.sign = sign;
    w.exp = a->exp + b->exp + 1;
    w.lo = mul64(a->mant, b->mant, &w.hi);
    if (!(w.hi & SF_TOP)) {
        w.hi = w.hi << 1 | w.lo >> 63;
        w.lo <<= 1;
        w.exp--;
    }
    return w;
}

EMU_PRIV struct sf_wide sf_div(struct sf_env *env, const struct sf_num *a, const struct sf_num *b)
{
    struct sf_wide w;
    bool sign = a->sign ^ b->sign, guard;
    uint64_t hi, lo, rem;
    if (sf_is_nan(a) || sf_is_nan(b))
        return sf_wide_nan(env, a, b);
    if (a->cls == b->cls && (a->cls == SF_INF || a->cls == SF_ZERO))
        return sf_wide_invalid(env);
    if (a->cls == SF_INF || b->cls == SF_INF) {
        sf_denormal_flag(env, a, b);
        return sf_wide_special(a->cls == SF_INF ? SF_INF : SF_ZERO, sign);
    }
    if (b->cls == SF_ZERO) {
        env->flags |= SF_ZE;
        return sf_wide_special(SF_INF, sign);
    }
    sf_denormal_flag(env, a, b);
    if (a->cls == SF_ZERO)
        return sf_wide_special(SF_ZERO, sign);
    w.cls = SF_FINITE;
    w.sign = sign;
    w.exp = a->exp - b->exp;
    if (a->mant >= b->mant) {
        hi = a->mant >> 1;
        lo = a->mant << 63;
    } else {
        hi = a->mant;
        lo = 0;
        w.exp--;
    }
    w.hi = div128(hi, lo, b->mant, &rem);
    guard = rem >= b->mant - rem;
    rem = guard ? rem - (b->mant - rem) : rem << 1;
    w.lo = (guard ? SF_TOP : 0) | (rem != 0);
    return w;
}

/* Integer square root by Newton's iteration from above; the start is never below the root. */
static uint64_t sf_isqrt64(uint64_t n)
{
    uint64_t x = UINT64_C(1) << (32 - clz64(n) / 2), y;
    if (x > UINT32_MAX)
        x = UINT32_MAX;
    while ((y = (x + n / x) >> 1) < x)
        x = y;
    return x;
}

/* Square root of hi:lo >= 2^126, one step of Karatsuba's square root (Zimmermann, INRIA RR-3805): 64-bit root; *above: the remainder
 * exceeds the root (so the next bit is 1), *exact: there is none. */
static uint64_t sf_isqrt128(uint64_t hi, uint64_t lo, bool *above, bool *exact)
{
    uint64_t s1 = sf_isqrt64(hi), r1 = hi - s1 * s1;
    uint64_t q, u, s, rhi, rlo, q2hi, q2lo;
    q = div128(r1 >> 32, r1 << 32 | lo >> 32, s1 << 1, &u);
    s = (s1 << 32) + q; /* q may be 2^32: then s wraps only where the true root is 2^64 - 1, mended below */
    rhi = u >> 32;
    rlo = u << 32 | (uint32_t)lo;
    q2lo = mul64(q, q, &q2hi);
    rhi = rhi - q2hi - (rlo < q2lo);
    rlo -= q2lo;
    if (rhi >> 63) { /* one too large: r += 2s - 1, s -= 1 */
        uint64_t add;
        s--;
        add = s << 1 | 1;
        rhi += s >> 63;
        rlo += add;
        rhi += rlo < add;
    }
    *exact = !(rhi | rlo);
    *above = rhi || rlo > s;
    return s;
}

EMU_PRIV struct sf_wide sf_sqrt(struct sf_env *env, const struct sf_num *a)
{
    struct sf_wide w;
    bool above, exact;
    if (sf_is_nan(a))
        return sf_wide_nan(env, a, a);
    if (a->cls == SF_ZERO)
        return sf_wide_of(a);
    if (a->sign)
        return sf_wide_invalid(env);
    if (a->cls == SF_INF)
        return sf_wide_of(a);
    if (a->denormal)
        env->flags |= SF_DE;
    w.cls = SF_FINITE;
    w.sign = false;
    if (a->exp & 1) { /* mant / 2^63 * 2 in [2, 4) */
        w.exp = (a->exp - 1) / 2;
        w.hi = sf_isqrt128(a->mant, 0, &above, &exact);
    } else {
        w.exp = a->exp / 2;
        w.hi = sf_isqrt128(a->mant >> 1, a->mant << 63, &above, &exact);
    }
    w.lo = (above ? SF_TOP : 0) | !exact;
    return w;
}

/* ---- integers and comparison ---- */

EMU_PRIV struct sf_wide sf_from_int(uint64_t value, bool is_signed)
{
    struct sf_wide w;
    unsigned shift;
    if (!value)
        return sf_wide_special(SF_ZERO, false);
    w.cls = SF_FINITE;
    w.sign = is_signed && value >> 63;
    if (w.sign)
        value = 0 - value;
    shift = clz64(value);
    w.hi = value << shift;
    w.lo = 0;
    w.exp = 63 - (int32_t)shift;
    return w;
}

/* Magnitude of a, |a| < 2^64, rounded to an integer. */
static uint64_t sf_integer_part(struct sf_env *env, const struct sf_num *a, unsigned rounding, bool *carried)
{
    uint64_t hi = a->mant, lo = 0;
    bool inexact, up;
    sf_shift_right_jam(&hi, &lo, (uint32_t)(63 - a->exp));
    up = sf_must_increment(rounding, a->sign, hi, lo, 64, &inexact);
    env->rounded_up = up;
    if (inexact)
        env->flags |= SF_PE;
    *carried = up && hi == UINT64_MAX;
    return hi + up;
}

EMU_PRIV struct sf_num sf_round_int(struct sf_env *env, const struct sf_num *a, unsigned rounding)
{
    struct sf_num n = *a;
    uint64_t v;
    bool carried;
    env->rounded_up = false;
    if (sf_is_nan(a))
        return sf_propagate(env, a, a);
    if (a->cls != SF_FINITE || a->exp >= 63)
        return n;
    v = sf_integer_part(env, a, rounding, &carried);
    n.denormal = false;
    if (!v) {
        n.cls = SF_ZERO;
        n.mant = 0;
    } else {
        unsigned shift = clz64(v);
        n.mant = v << shift;
        n.exp = 63 - (int32_t)shift;
    }
    return n;
}

EMU_PRIV uint64_t sf_to_int(struct sf_env *env, const struct sf_num *a, unsigned bits, unsigned rounding)
{
    uint64_t indefinite = 0 - (UINT64_C(1) << (bits - 1)), v, limit = UINT64_C(1) << (bits - 1);
    uint8_t flags = env->flags;
    bool carried;
    env->rounded_up = false;
    if (a->cls == SF_ZERO)
        return 0;
    if (a->cls != SF_FINITE || a->exp > 63) {
        env->flags |= SF_IE;
        return indefinite;
    }
    v = sf_integer_part(env, a, rounding, &carried);
    if (carried || v > limit || (v == limit && !a->sign)) {
        env->flags = flags | SF_IE;
        env->rounded_up = false;
        return indefinite;
    }
    return a->sign ? 0 - v : v;
}

EMU_PRIV enum sf_order sf_compare(struct sf_env *env, const struct sf_num *a, const struct sf_num *b, bool quiet)
{
    bool less;
    if (sf_is_nan(a) || sf_is_nan(b)) {
        if (!quiet || a->cls > SF_QNAN || b->cls > SF_QNAN)
            env->flags |= SF_IE;
        return SF_UNORDERED;
    }
    sf_denormal_flag(env, a, b);
    if (a->cls == SF_ZERO && b->cls == SF_ZERO)
        return SF_EQUAL;
    if (a->cls == SF_ZERO)
        return b->sign ? SF_GREATER : SF_LESS;
    if (b->cls == SF_ZERO || a->sign != b->sign)
        return a->sign ? SF_LESS : SF_GREATER;
    if (a->cls == SF_INF || b->cls == SF_INF) {
        if (a->cls == b->cls)
            return SF_EQUAL;
        less = b->cls == SF_INF;
    } else if (a->exp == b->exp && a->mant == b->mant) {
        return SF_EQUAL;
    } else {
        less = a->exp != b->exp ? a->exp < b->exp : a->mant < b->mant;
    }
    return less != a->sign ? SF_LESS : SF_GREATER;
}

/* ---- elements of SSE operations ---- */

EMU_PRIV uint64_t sf_element(struct sf_env *env, const struct sf_format *f, enum sf_op op, uint64_t a, uint64_t b)
{
    struct sf_num x = sf_unpack(env, f, a), y = sf_unpack(env, f, b);
    struct sf_wide w;
    struct sf_num r;
    enum sf_order order;
    switch (op) {
    case SF_OP_ADD: w = sf_add(env, &x, &y, false); break;
    case SF_OP_SUB: w = sf_add(env, &x, &y, true); break;
    case SF_OP_MUL: w = sf_mul(env, &x, &y); break;
    case SF_OP_DIV: w = sf_div(env, &x, &y); break;
    case SF_OP_SQRT: w = sf_sqrt(env, &y); break;
    default: /* MINxx, MAXxx: the second operand unless the first is strictly less (greater) */
        order = sf_compare(env, &x, &y, false);
        if (order == (op == SF_OP_MIN ? SF_LESS : SF_GREATER))
            y = x, b = a;
        return y.cls == SF_ZERO ? sf_pack(f, &y) : b; /* DAZ clears a denormal result */
    }
    r = sf_round(env, f, &w);
    return sf_pack(f, &r);
}

EMU_PRIV uint64_t sf_convert(struct sf_env *env, const struct sf_format *from, const struct sf_format *to, uint64_t bits)
{
    struct sf_num n = sf_unpack(env, from, bits), r;
    struct sf_wide w;
    if (sf_is_nan(&n))
        n = sf_propagate(env, &n, &n);
    else if (n.denormal)
        env->flags |= SF_DE;
    w = sf_wide_of(&n);
    r = sf_round(env, to, &w);
    return sf_pack(to, &r);
}

#undef SF_TOP
#undef SF_QUIET
#undef SF_BIAS_ADJUST
