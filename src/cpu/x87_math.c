/* cpu/x87_math.c - the x87's transcendental functions.
 *
 * Models     SDM vol. 1 §8.3.8 (pi of 66 significant bits in FSIN, FCOS, FSINCOS, FPTAN) and §8.3.10 (errors below one unit in the last place).
 * Contract   Called by x87.c, which has dealt with NaNs, infinities, zeros and ranges (vec.h says what is left). Results are 128 bits wide;
 *            x87.c rounds them in the mode in force.
 * Theory     Everything is computed with 128-bit significands, so that the error before rounding is below 2^-60 of a unit in the last place of
 *            the 64-bit result: it is the correctly rounded one but in about one case of 2^60. Arguments of sine and cosine are reduced
 *            exactly, by integer remainder, modulo the hardware's pi/2. Series run in fixed point from the innermost term out:
 *              sin r / r = 1 - t/(2*3) (1 - t/(4*5) (1 - ...)), t = r^2;   atan u / u = 1 - t (1/3 - t (1/5 - ...)), after a table of atan(j/16);
 *              (e^y - 1) / y = 1 + y/2 (1 + y/3 (...));                    ln m = 2 atanh s, s = (m - 1) / (m + 1).
 *            A factor near 1 is kept a hair below it where the true value is, so that directed rounding goes the right way.
 * Invariants 1. A result is never exact but in log2 of powers of two: bit 0 of lo stands for the rest.
 */
#include "../machine.h"
#include "cpu.h"
#include "vec.h"

#define X87M_TOP (UINT64_C(1) << 63)

struct x87m_fix {
    uint64_t hi, lo; /* an unsigned fraction of 128 bits; where its point is, the functions say */
};

static const struct sf_wide x87m_pi = { UINT64_C(0xC90FDAA22168C234), UINT64_C(0xC4C6628B80DC1CD1), 1, SF_FINITE, false };
static const struct sf_wide x87m_ln2 = { UINT64_C(0xB17217F7D1CF79AB), UINT64_C(0xC9E3B39803F2F6AF), -1, SF_FINITE, false };
static const struct sf_wide x87m_2_over_ln2 = { UINT64_C(0xB8AA3B295C17F0BB), UINT64_C(0xBE87FED0691D3E89), 1, SF_FINITE, false };
static const struct sf_wide x87m_atan[16] = {
    { UINT64_C(0xFFAADDB967EF4E36), UINT64_C(0xCB2792DC0E2E0D51), -5, SF_FINITE, false }, /* atan(1/16) */
    { UINT64_C(0xFEADD4D5617B6E32), UINT64_C(0xC897989F3E888EF8), -4, SF_FINITE, false }, /* atan(2/16) */
    { UINT64_C(0xBDCBDA5E72D81134), UINT64_C(0x7B0B4F881C9C7488), -3, SF_FINITE, false }, /* atan(3/16) */
    { UINT64_C(0xFADBAFC96406EB15), UINT64_C(0x6DC79EF5F7A217E6), -3, SF_FINITE, false }, /* atan(4/16) */
    { UINT64_C(0x9B13B9B83F5E5E69), UINT64_C(0xC5ABB498D27AF328), -2, SF_FINITE, false }, /* atan(5/16) */
    { UINT64_C(0xB7B0CA0F26F78473), UINT64_C(0x8AA32122DCFE4483), -2, SF_FINITE, false }, /* atan(6/16) */
    { UINT64_C(0xD327761E611FE5B6), UINT64_C(0x427C95E9001E7136), -2, SF_FINITE, false }, /* atan(7/16) */
    { UINT64_C(0xED63382B0DDA7B45), UINT64_C(0x6FE445ECBC3A8D03), -2, SF_FINITE, false }, /* atan(8/16) */
    { UINT64_C(0x832BF4A6D9867E2A), UINT64_C(0x4B6A09CB61A515C1), -1, SF_FINITE, false }, /* atan(9/16) */
    { UINT64_C(0x8F005D5EF7F59F9B), UINT64_C(0x5C835E1665C43748), -1, SF_FINITE, false }, /* atan(10/16) */
    { UINT64_C(0x9A2F80E671BDDA20), UINT64_C(0x4226F8E2204FF3BD), -1, SF_FINITE, false }, /* atan(11/16) */
    { UINT64_C(0xA4BC7D1934F70924), UINT64_C(0x19A87F2A457DAC9F), -1, SF_FINITE, false }, /* atan(12/16) */
    { UINT64_C(0xAEAC4C38B4D8C080), UINT64_C(0x14725E2F3E52070A), -1, SF_FINITE, false }, /* atan(13/16) */
    { UINT64_C(0xB8053E2BC2319E73), UINT64_C(0xCB2DA55210A4443D), -1, SF_FINITE, false }, /* atan(14/16) */
    { UINT64_C(0xC0CE85B8AC526640), UINT64_C(0x89DD62C46E92FA25), -1, SF_FINITE, false }, /* atan(15/16) */
    { UINT64_C(0xC90FDAA22168C234), UINT64_C(0xC4C6628B80DC1CD1), -1, SF_FINITE, false }, /* atan(16/16) */
};

/* ---- 128-bit pieces ---- */

/* Upper half of the 256-bit product; the lowest partial product is left out. */
static struct x87m_fix x87m_mul(struct x87m_fix a, struct x87m_fix b)
{
    struct x87m_fix r;
    uint64_t h1, h2, l1, l2;
    r.lo = mul64(a.hi, b.hi, &r.hi);
    l1 = mul64(a.hi, b.lo, &h1);
    l2 = mul64(a.lo, b.hi, &h2);
    l1 += l2;
    h2 += l1 < l2; /* cannot wrap: h2 <= 2^64 - 2 */
    r.lo += h1;
    r.hi += r.lo < h1;
    r.lo += h2;
    r.hi += r.lo < h2;
    return r;
}
static struct x87m_fix x87m_div_small(struct x87m_fix a, uint64_t d)
{
    struct x87m_fix r;
    uint64_t rem;
    r.hi = a.hi / d;
    r.lo = div128(a.hi % d, a.lo, d, &rem);
    return r;
}
static struct x87m_fix x87m_sub(struct x87m_fix a, struct x87m_fix b)
{
    struct x87m_fix r;
    r.lo = a.lo - b.lo;
    r.hi = a.hi - b.hi - (a.lo < b.lo);
    return r;
}
static struct x87m_fix x87m_add(struct x87m_fix a, struct x87m_fix b)
{
    struct x87m_fix r;
    r.lo = a.lo + b.lo;
    r.hi = a.hi + b.hi + (r.lo < b.lo);
    return r;
}
static struct x87m_fix x87m_not(struct x87m_fix a)
{
    a.hi = ~a.hi;
    a.lo = ~a.lo;
    return a;
}
/* |w| < 1 as a fraction of 2^-128. */
static struct x87m_fix x87m_to_fix(const struct sf_wide *w)
{
    struct x87m_fix r;
    uint32_t shift = (uint32_t)(-1 - w->exp);
    r.hi = w->hi;
    r.lo = w->lo;
    if (shift >= 128) {
        r.hi = r.lo = 0;
    } else if (shift >= 64) {
        r.lo = r.hi >> (shift - 64);
        r.hi = 0;
    } else if (shift) {
        r.lo = r.lo >> shift | r.hi << (64 - shift);
        r.hi >>= shift;
    }
    return r;
}
/* Normalises hi:lo, whose top bit is worth 2^exp. */
static struct sf_wide x87m_wide(uint64_t hi, uint64_t lo, int32_t exp, bool sign)
{
    struct sf_wide w;
    unsigned shift;
    w.cls = SF_FINITE;
    w.sign = sign;
    if (!hi) {
        hi = lo;
        lo = 0;
        exp -= 64;
    }
    if (!hi) {
        w.cls = SF_ZERO;
        w.hi = w.lo = 0;
        w.exp = 0;
        return w;
    }
    shift = clz64(hi);
    if (shift) {
        hi = hi << shift | lo >> (64 - shift);
        lo <<= shift;
    }
    w.hi = hi;
    w.lo = lo;
    w.exp = exp - (int32_t)shift;
    return w;
}
static struct sf_wide x87m_wide_fix(struct x87m_fix f, int32_t exp) { return x87m_wide(f.hi, f.lo, exp, false); }
static struct sf_wide x87m_wide_mul(const struct sf_wide *a, const struct sf_wide *b)
{
    struct x87m_fix x, y;
    x.hi = a->hi;
    x.lo = a->lo;
    y.hi = b->hi;
    y.lo = b->lo;
    x = x87m_mul(x, y);
    return x87m_wide(x.hi, x.lo, a->exp + b->exp + 1, a->sign ^ b->sign);
}
/* Quotient bit by bit; not rounded. */
static struct sf_wide x87m_wide_div(const struct sf_wide *a, const struct sf_wide *b)
{
    uint64_t rh = a->hi, rl = a->lo, qh = 0, ql = 0;
    int32_t exp = a->exp - b->exp;
    unsigned k;
    bool carry = false;
    if (rh < b->hi || (rh == b->hi && rl < b->lo)) {
        carry = rh >> 63;
        rh = rh << 1 | rl >> 63;
        rl <<= 1;
        exp--;
    }
    for (k = 0; k < 128; k++) {
        bool bit = carry || rh > b->hi || (rh == b->hi && rl >= b->lo);
        if (bit) {
            rh = rh - b->hi - (rl < b->lo);
            rl -= b->lo;
        }
        qh = qh << 1 | ql >> 63;
        ql = ql << 1 | bit;
        carry = rh >> 63;
        rh = rh << 1 | rl >> 63;
        rl <<= 1;
    }
    return x87m_wide(qh, ql, exp, a->sign ^ b->sign);
}
static struct sf_wide x87m_wide_add(const struct sf_wide *a, const struct sf_wide *b)
{
    const struct sf_wide *big = a, *small = b;
    uint64_t hi, lo, sh, sl;
    uint32_t shift;
    if (a->cls == SF_ZERO)
        return *b;
    if (b->cls == SF_ZERO)
        return *a;
    if (a->exp < b->exp || (a->exp == b->exp && (a->hi < b->hi || (a->hi == b->hi && a->lo < b->lo)))) {
        big = b;
        small = a;
    }
    shift = (uint32_t)(big->exp - small->exp);
    sh = small->hi;
    sl = small->lo;
    if (shift >= 128) {
        sh = 0;
        sl = 1;
    } else if (shift >= 64) {
        sl = sh >> (shift - 64);
        sh = 0;
    } else if (shift) {
        sl = sl >> shift | sh << (64 - shift);
        sh >>= shift;
    }
    hi = big->hi;
    lo = big->lo;
    if (a->sign == b->sign) {
        bool carry;
        lo += sl;
        hi += sh;
        carry = hi < sh;
        hi += lo < sl;
        carry = carry || (!hi && lo < sl);
        if (carry) {
            lo = (lo >> 1 | hi << 63) | (lo & 1);
            return x87m_wide(hi >> 1 | X87M_TOP, lo, big->exp + 1, big->sign);
        }
        return x87m_wide(hi, lo, big->exp, big->sign);
    }
    hi = hi - sh - (lo < sl);
    lo -= sl;
    return x87m_wide(hi, lo, big->exp, big->sign);
}
static struct sf_wide x87m_inexact(struct sf_wide w)
{
    w.lo |= 1;
    return w;
}

/* ---- sine, cosine, tangent ---- */

/* x modulo the hardware's pi/2 into [-pi/4, pi/4]; returns the quadrant. */
static unsigned x87m_reduce(const struct sf_num *x, struct sf_wide *r)
{
    const uint64_t ph = 3, pl = UINT64_C(0x243F6A8885A308D3); /* the 66 bits of pi: pi/2 in units of 2^-65 */
    uint64_t hi = 0, lo = x->mant, q = 0;
    bool sign = false;
    int32_t k;
    *r = sf_widen(x);
    r->sign = false;
    if (x->exp < -1)
        return 0;
    for (k = x->exp + 2; k > 0; k--) { /* x in units of 2^-65 is mant << (exp + 2) */
        hi = hi << 1 | lo >> 63;
        lo <<= 1;
        q <<= 1;
        if (hi > ph || (hi == ph && lo >= pl)) {
            hi = hi - ph - (lo < pl);
            lo -= pl;
            q |= 1;
        }
    }
    if (hi > ph >> 1 || (hi == ph >> 1 && lo > (pl >> 1 | ph << 63))) {
        hi = ph - hi - (pl < lo);
        lo = pl - lo;
        q++;
        sign = true;
    }
    *r = x87m_wide(hi, lo, 127 - 65, sign);
    return (unsigned)(q & 3);
}
/* sin(r) and cos(r) for 0 < |r| <= pi/4. */
static void x87m_series(const struct sf_wide *r, struct sf_wide *sine, struct sf_wide *cosine)
{
    struct x87m_fix f = x87m_to_fix(r), t = x87m_mul(f, f), v = { UINT64_MAX, UINT64_MAX }, u = v;
    struct sf_wide w;
    uint64_t k;
    for (k = 30; k >= 2; k -= 2) {
        v = x87m_not(x87m_div_small(x87m_mul(t, v), k * (k + 1)));
        u = x87m_not(x87m_div_small(x87m_mul(t, u), (k - 1) * k));
    }
    w = x87m_wide_fix(v, -1);
    *sine = x87m_inexact(x87m_wide_mul(r, &w));
    *cosine = x87m_inexact(x87m_wide_fix(u, -1));
}
EMU_PRIV void x87_math_sincos(const struct sf_num *x, struct sf_wide *sine, struct sf_wide *cosine)
{
    struct sf_wide r, s, k;
    unsigned q = x87m_reduce(x, &r);
    x87m_series(&r, &s, &k);
    *sine = q & 1 ? k : s;
    *cosine = q & 1 ? s : k;
    sine->sign ^= (q >= 2) ^ x->sign;
    cosine->sign ^= q == 1 || q == 2;
}
EMU_PRIV struct sf_wide x87_math_tan(const struct sf_num *x)
{
    struct sf_wide s, k, t;
    if (x->exp < -60) { /* x + x^3 / 3: a hair more than x */
        t = sf_widen(x);
        return x87m_inexact(t);
    }
    x87_math_sincos(x, &s, &k);
    t = x87m_wide_div(&s, &k);
    return x87m_inexact(t);
}

/* ---- arc tangent ---- */

/* atan(u), 0 < u <= 1/32 or so. */
static struct sf_wide x87m_atan_series(const struct sf_wide *u)
{
    struct x87m_fix f = x87m_to_fix(u), t = x87m_mul(f, f), one = { UINT64_MAX, UINT64_MAX }, v = x87m_div_small(one, 27);
    struct sf_wide w;
    uint64_t k;
    for (k = 25; k <= 25; k -= 2) /* down to 1; wraps after */
        v = x87m_sub(x87m_div_small(one, k), x87m_mul(t, v));
    w = x87m_wide_fix(v, -1);
    return x87m_wide_mul(u, &w);
}
/* atan(z), 0 < z < 1: atan(c) + atan((z - c) / (1 + z c)) for the nearest c = j / 16. */
static struct sf_wide x87m_atan_unit(const struct sf_wide *z)
{
    struct x87m_fix f, c = { 0, 0 }, n;
    struct sf_wide num, den, u;
    unsigned j, k;
    bool below;
    if (z->exp < -5)
        return x87m_atan_series(z);
    f = x87m_to_fix(z);
    j = (unsigned)((f.hi >> 59) + 1) >> 1; /* 1 to 16; c of 16 wraps to 0, and so c - f is 1 - z */
    c.hi = (uint64_t)(j & 15) << 60;
    below = j == 16 || f.hi < c.hi;
    n = below ? x87m_sub(c, f) : x87m_sub(f, c);
    num = x87m_wide_fix(n, -1);
    if (num.cls == SF_ZERO)
        return x87m_atan[j - 1];
    n.hi = UINT64_C(1) << 63; /* 1 + z j / 16 in units of 2^-127 */
    n.lo = 0;
    c = x87m_div_small(f, 32);
    for (k = 0; k < j; k++)
        n = x87m_add(n, c);
    den = x87m_wide_fix(n, 0);
    u = x87m_wide_div(&num, &den);
    u = x87m_atan_series(&u);
    u.sign = below;
    return x87m_wide_add(&x87m_atan[j - 1], &u);
}
EMU_PRIV struct sf_wide x87_math_atan2(const struct sf_num *y, const struct sf_num *x)
{
    struct sf_wide a = sf_widen(y), b = sf_widen(x), z, r, half_pi = x87m_pi;
    bool swap;
    half_pi.exp--;
    a.sign = b.sign = false;
    if (y->cls == SF_ZERO || (x->cls == SF_INF && y->cls != SF_INF)) {
        r = x87m_pi; /* x < 0 */
    } else if (x->cls == SF_ZERO || (y->cls == SF_INF && x->cls != SF_INF)) {
        r = half_pi;
    } else if (a.cls == SF_INF || (a.exp == b.exp && a.hi == b.hi)) { /* |x| = |y| */
        r = x87m_atan[15];
        if (x->sign) { /* 3 pi / 4 */
            z = half_pi;
            r = x87m_wide_add(&r, &z);
        }
    } else {
        swap = a.exp > b.exp || (a.exp == b.exp && a.hi > b.hi);
        z = swap ? x87m_wide_div(&b, &a) : x87m_wide_div(&a, &b);
        r = x87m_atan_unit(&z);
        if (swap) {
            r.sign = !x->sign;
            r = x87m_wide_add(&half_pi, &r);
        } else if (x->sign) {
            r.sign = true;
            r = x87m_wide_add(&x87m_pi, &r);
        }
    }
    r.sign = y->sign;
    return x87m_inexact(r);
}

/* ---- 2^x - 1 ---- */
EMU_PRIV struct sf_wide x87_math_exp2m1(const struct sf_num *x)
{
    struct sf_wide w = sf_widen(x), y = x87m_wide_mul(&w, &x87m_ln2);
    struct x87m_fix f, one = { UINT64_C(1) << 62, 0 }, v = one; /* v: units of 2^-126 */
    uint64_t k;
    f = x87m_to_fix(&y);
    for (k = 30; k >= 2; k--) {
        v = x87m_div_small(x87m_mul(f, v), k);
        v = y.sign ? x87m_sub(one, v) : x87m_add(one, v);
    }
    w = x87m_wide_fix(v, 1);
    w = x87m_wide_mul(&y, &w);
    return x87m_inexact(w);
}

/* ---- logarithms ---- */

/* 2/ln2 * atanh(s), |s| < 0.18. */
static struct sf_wide x87m_log_series(const struct sf_wide *s)
{
    struct x87m_fix f = x87m_to_fix(s), t = x87m_mul(f, f), one = { UINT64_C(1) << 62, 0 }, v = x87m_div_small(one, 51);
    struct sf_wide w;
    uint64_t k;
    for (k = 49; k <= 49; k -= 2)
        v = x87m_add(x87m_div_small(one, k), x87m_mul(t, v));
    w = x87m_wide_fix(v, 1);
    w = x87m_wide_mul(s, &w);
    return x87m_wide_mul(&w, &x87m_2_over_ln2);
}
/* log2(x), x > 0 and not 1; *exact: x is a power of two. */
static struct sf_wide x87m_log2(const struct sf_wide *x, bool *exact)
{
    struct sf_wide m = *x, one = { X87M_TOP, 0, 0, SF_FINITE, false }, num, den, e;
    int32_t k = x->exp;
    m.exp = 0;
    if (m.hi >= UINT64_C(0xB504F333F9DE6484)) { /* sqrt(2) */
        m.exp = -1;
        k++;
    }
    e = sf_from_int((uint64_t)(int64_t)k, true);
    one.sign = true;
    num = x87m_wide_add(&m, &one);
    one.sign = false;
    *exact = num.cls == SF_ZERO;
    if (*exact)
        return e;
    den = x87m_wide_add(&m, &one);
    num = x87m_wide_div(&num, &den);
    num = x87m_log_series(&num);
    return x87m_wide_add(&e, &num);
}
EMU_PRIV struct sf_wide x87_math_ylog2(const struct sf_num *y, const struct sf_num *x)
{
    struct sf_wide a = sf_widen(y), b = sf_widen(x);
    bool exact;
    b = x87m_log2(&b, &exact);
    b = x87m_wide_mul(&a, &b);
    return exact ? b : x87m_inexact(b);
}
EMU_PRIV struct sf_wide x87_math_ylog2p1(const struct sf_num *y, const struct sf_num *x)
{
    struct sf_wide a = sf_widen(y), b = sf_widen(x), one = { X87M_TOP, 0, 0, SF_FINITE, false }, den;
    bool exact = false;
    if (x->exp < -2) {
        one.exp = 1; /* 2 + x */
        den = x87m_wide_add(&one, &b);
        b = x87m_wide_div(&b, &den);
        b = x87m_log_series(&b);
    } else {
        b = x87m_wide_add(&one, &b);
        b = x87m_log2(&b, &exact);
    }
    b = x87m_wide_mul(&a, &b);
    return exact ? b : x87m_inexact(b);
}

#undef X87M_TOP
