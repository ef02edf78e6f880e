/* cpu/vec.h - what softfloat.c, x87.c, mmx.c, sse.c, sse4.c and crypto.c share.
 *
 * Models     IEEE 754-2008 binary32, binary64 and the x87's 80-bit format, with Intel's rules for NaNs, tininess (detected after
 *            rounding) and exception flags (SDM vol. 1 chapters 4, 8, 11).
 * Theory     A number is unpacked to sign, exponent and a 64-bit significand with its leading bit at 63, whatever its format.
 *            Operations give an exact or jammed 128-bit significand (struct sf_wide); one function rounds that to the wanted
 *            precision and exponent range. So every format shares one adder, multiplier, divider and square root.
 * Invariants 1. A struct sf_num of class SF_FINITE has bit 63 of mant set after unpacking; sf_round() may return it clear: a denormal
 *               of the format it was rounded to, exp then being the smallest exponent.
 *            2. A struct sf_wide of class SF_FINITE has bit 63 of hi set; bit 0 of lo stands for everything below it.
 *            3. Flags are only ever added to env->flags; nothing here knows of faults.
 */
#ifndef EMU_VEC_H
#define EMU_VEC_H

enum { SF_IE = 1, SF_DE = 2, SF_ZE = 4, SF_OE = 8, SF_UE = 16, SF_PE = 32, SF_ALL_FLAGS = 63 }; /* as in MXCSR and the x87 status */
enum { SF_NEAREST = 0, SF_DOWN = 1, SF_UP = 2, SF_CHOP = 3 };                                   /* as MXCSR.RC and the x87's RC */
enum { MXCSR_DAZ = 1 << 6, MXCSR_MASKS = 0x3F << 7, MXCSR_RC = 3 << 13, MXCSR_FTZ = 1 << 15 };

enum sf_class { SF_ZERO, SF_FINITE, SF_INF, SF_QNAN, SF_SNAN, SF_UNSUPPORTED /* x87 unnormals, pseudo-infinities, pseudo-NaNs */ };
struct sf_num {
    uint64_t mant;
    int32_t exp; /* value = mant / 2^63 * 2^exp */
    uint8_t cls; /* enum sf_class */
    bool sign, denormal;
};
struct sf_wide {
    uint64_t hi, lo;
    int32_t exp;
    uint8_t cls;
    bool sign;
};
struct sf_env {
    uint8_t rounding, flags;
    uint8_t masked;    /* SF_* bits whose exception is masked */
    bool daz, ftz;     /* MXCSR */
    bool x87;          /* the x87's NaN rules and biased results of unmasked overflow and underflow */
    bool rounded_up;   /* the last sf_round() increased the magnitude: C1 */
};
struct sf_format {
    uint8_t precision; /* significand bits, leading one included */
    uint8_t exp_bits;
    int16_t emin, emax;
};
static const struct sf_format sf_f32 EMU_UNUSED = { 24, 8, -126, 127 };
static const struct sf_format sf_f64 EMU_UNUSED = { 53, 11, -1022, 1023 };
static const struct sf_format sf_f80 EMU_UNUSED = { 64, 15, -16382, 16383 };

EMU_PRIV struct sf_num sf_unpack(const struct sf_env *env, const struct sf_format *f, uint64_t bits); /* binary32, binary64 */
EMU_PRIV uint64_t sf_pack(const struct sf_format *f, const struct sf_num *n);
EMU_PRIV struct sf_num sf_unpack80(const struct x87_reg *r);
EMU_PRIV struct x87_reg sf_pack80(const struct sf_num *n);
EMU_PRIV struct sf_num sf_default_nan(void);
/* The NaN that an operation on a and b (one of them a NaN, or both) gives; sets IE for a signalling one. */
EMU_PRIV struct sf_num sf_propagate(struct sf_env *env, const struct sf_num *a, const struct sf_num *b);
EMU_PRIV struct sf_num sf_invalid(struct sf_env *env); /* IE and the default NaN */
/* Rounds to f's precision and range, sets OE, UE, PE. */
EMU_PRIV struct sf_num sf_round(struct sf_env *env, const struct sf_format *f, const struct sf_wide *w);
EMU_PRIV struct sf_wide sf_widen(const struct sf_num *n);

EMU_PRIV struct sf_wide sf_add(struct sf_env *env, const struct sf_num *a, const struct sf_num *b, bool subtract);
EMU_PRIV struct sf_wide sf_mul(struct sf_env *env, const struct sf_num *a, const struct sf_num *b);
EMU_PRIV struct sf_wide sf_div(struct sf_env *env, const struct sf_num *a, const struct sf_num *b);
EMU_PRIV struct sf_wide sf_sqrt(struct sf_env *env, const struct sf_num *a);
EMU_PRIV struct sf_wide sf_from_int(uint64_t value, bool is_signed);
EMU_PRIV struct sf_num sf_round_int(struct sf_env *env, const struct sf_num *a, unsigned rounding); /* PE where inexact */
/* To a signed integer of that many bits; out of range, infinity, NaN: IE and the "integer indefinite" 100..0. */
EMU_PRIV uint64_t sf_to_int(struct sf_env *env, const struct sf_num *a, unsigned bits, unsigned rounding);
enum sf_order { SF_LESS, SF_EQUAL, SF_GREATER, SF_UNORDERED };
/* Order of two numbers; flags: DE, and IE for a signalling NaN or (quiet = false) any NaN. */
EMU_PRIV enum sf_order sf_compare(struct sf_env *env, const struct sf_num *a, const struct sf_num *b, bool quiet);

/* SSE: one element of an operation on bit patterns. */
enum sf_op { SF_OP_ADD, SF_OP_SUB, SF_OP_MUL, SF_OP_DIV, SF_OP_MIN, SF_OP_MAX, SF_OP_SQRT /* of b */ };
EMU_PRIV uint64_t sf_element(struct sf_env *env, const struct sf_format *f, enum sf_op op, uint64_t a, uint64_t b);
EMU_PRIV uint64_t sf_convert(struct sf_env *env, const struct sf_format *from, const struct sf_format *to, uint64_t bits);

/* ---- sse.c: used by its sisters ---- */
EMU_PRIV void sse_env(const struct cpu *c, struct sf_env *env);
/* Adds the flags of an SSE operation to MXCSR; CPU_FAULT (#XM) where one is unmasked: the result must then be dropped. */
EMU_PRIV int sse_raise(struct cpu *c, const struct sf_env *env);

/* ---- operations and their handlers (uop.h) ----
 * VEC_FN_INLINE: as VEC_FN, made part of every handler that calls it. VEC_TRY: a quick way for the common case, without calls; true: done.
 * VEC_HANDLERS_TRY: handlers that leave all else to vec_NAME, out of line, so that they need no stack frame. */
#define VEC_FN_INLINE(fn) EMU_ALWAYS_INLINE int vec_##fn(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm)
#define VEC_TRY(fn) EMU_ALWAYS_INLINE bool vect_##fn(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm)
#define VEC_HANDLERS_TRY(name, size)                                                                                   \
    static EMU_NOINLINE EMU_TAIL_ATTR struct uop *vech_slow_rr_##name(UOP_PARAMS)                                      \
    {                                                                                                                  \
        if (vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), UOP_XMM(u->b), u->misc))                                       \
            UOP_TAIL(uop_fault);                                                                                       \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    static EMU_NOINLINE EMU_TAIL_ATTR struct uop *vech_slow_rm_##name(UOP_PARAMS)                                      \
    {                                                                                                                  \
        if (vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), &c->vtmp[0], u->misc))                                         \
            UOP_TAIL(uop_fault);                                                                                       \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    UOP_FN(vech_rr_##name)                                                                                             \
    {                                                                                                                  \
        if (EMU_UNLIKELY(!vect_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), UOP_XMM(u->b), u->misc)))                       \
            UOP_TAIL(vech_slow_rr_##name);                                                                                  \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(vech_rm_##name)                                                                                             \
    {                                                                                                                  \
        uint64_t va = UOP_CELL(u->b) + (uint64_t)(int64_t)u->disp;                                                     \
        const uint8_t *p;                                                                                              \
        if (EMU_UNLIKELY(va & u->scale))                                                                               \
            UOP_TAIL(uop_misaligned);                                                                                  \
        UOP_HOST(p, va, r, size);                                                                                      \
        VEC_LOAD_##size(p);                                                                                            \
        if (EMU_UNLIKELY(!vect_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), &c->vtmp[0], u->misc)))                         \
            UOP_TAIL(vech_slow_rm_##name);                                                                              \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    static const struct vec_handlers vech_##name = { vech_rr_##name, vech_rm_##name, size };

/* A plain load of `size` bytes: memory goes to d at once by load(d, p). */
#define VEC_HANDLERS_LOAD(name, size, load)                                                                            \
    UOP_FN(vech_rr_##name)                                                                                             \
    {                                                                                                                  \
        vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), UOP_XMM(u->b), u->misc);                                           \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(vech_rm_##name)                                                                                             \
    {                                                                                                                  \
        uint64_t va = UOP_CELL(u->b) + (uint64_t)(int64_t)u->disp;                                                     \
        const uint8_t *p;                                                                                              \
        if (EMU_UNLIKELY(va & u->scale))                                                                               \
            UOP_TAIL(uop_misaligned);                                                                                  \
        UOP_HOST(p, va, r, size);                                                                                      \
        load(UOP_XMM(u->a), p);                                                                                        \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    static const struct vec_handlers vech_##name = { vech_rr_##name, vech_rm_##name, size };
#define VEC_LOAD_8_ZERO(d, p) ((d)->q[0] = ld64le(p), (d)->q[1] = 0)
#define VEC_LOAD_4_ZERO(d, p) ((d)->q[0] = ld32le(p), (d)->q[1] = 0)
#define VEC_LOAD_8_LOW(d, p) ((d)->q[0] = ld64le(p))
#define VEC_LOAD_8_HIGH(d, p) ((d)->q[1] = ld64le(p))

/* ---- packed integers ----
 * A lane-wise operation: x and y are the elements of a and b, T their type, R that of the result. Both operands are copied before d is
 * written, so that any of the three may be the same register, and compilers see loops over local arrays (they vectorise those). The
 * lane order does not matter here, so the host's byte order does not either. VEC_LANES makes vec_NAME (16 bytes) and vec_mmx_NAME (8). */
#define VEC_LANES_N(T, R, bytes, expr)                                                                                 \
    {                                                                                                                  \
        T va[(bytes) / sizeof(T)], vb[(bytes) / sizeof(T)];                                                            \
        R vr[(bytes) / sizeof(T)];                                                                                     \
        unsigned lane;                                                                                                 \
        (void)c, (void)imm;                                                                                            \
        memcpy(va, a, bytes);                                                                                          \
        memcpy(vb, b, bytes);                                                                                          \
        for (lane = 0; lane < (bytes) / sizeof(T); lane++) {                                                           \
            const T x = va[lane], y = vb[lane];                                                                        \
            (void)x, (void)y;                                                                                          \
            vr[lane] = (R)(expr);                                                                                      \
        }                                                                                                              \
        memcpy(d, vr, bytes);                                                                                          \
        return CPU_OK;                                                                                                 \
    }
#define VEC_LANES(name, T, R, expr)                                                                                    \
    VEC_FN_INLINE(name) VEC_LANES_N(T, R, 16, expr)                                                                           \
    VEC_FN(mmx_##name) VEC_LANES_N(T, R, 8, expr)
/* A body that moves lanes about: `bytes` is 8 or 16; reads *a and *b (copies), writes r, which becomes the low bytes of d. */
#define VEC_BODY_N(bytes_, ...)                                                                                        \
    {                                                                                                                  \
        const unsigned bytes = (bytes_);                                                                               \
        const union vec va = *a, vb = *b;                                                                              \
        union vec vr;                                                                                                  \
        (void)c, (void)imm, (void)bytes, (void)va, (void)vb;                                                           \
        __VA_ARGS__                                                                                                    \
        memcpy(d, &vr, bytes_);                                                                                        \
        return CPU_OK;                                                                                                 \
    }
#define VEC_BODY(name, ...)                                                                                            \
    VEC_FN_INLINE(name) VEC_BODY_N(16, __VA_ARGS__)                                                                           \
    VEC_FN(mmx_##name) VEC_BODY_N(8, __VA_ARGS__)
EMU_INLINE int vec_clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* ---- x87_math.c: transcendental functions of finite, nonzero numbers (but where said); results are never exact ---- */
EMU_PRIV void x87_math_sincos(const struct sf_num *x, struct sf_wide *sine, struct sf_wide *cosine); /* |x| < 2^63 */
EMU_PRIV struct sf_wide x87_math_tan(const struct sf_num *x);
EMU_PRIV struct sf_wide x87_math_atan2(const struct sf_num *y, const struct sf_num *x); /* not for y = 0 or x infinite with x > 0 */
EMU_PRIV struct sf_wide x87_math_exp2m1(const struct sf_num *x);                          /* |x| < 1 */
EMU_PRIV struct sf_wide x87_math_ylog2(const struct sf_num *y, const struct sf_num *x);   /* x > 0, x != 1 */
EMU_PRIV struct sf_wide x87_math_ylog2p1(const struct sf_num *y, const struct sf_num *x); /* x > -1 */

/* ---- x87.c: used by mmx.c ---- */
EMU_PRIV void chipset_set_ferr(struct emu *e, bool on); /* the FERR# pin (CR0.NE = 0); dev/piix3 wires it to IRQ 13 */
EMU_PRIV int mmx_enter(struct cpu *c); /* #UD, #NM, #MF checks, TOP = 0, all tags valid: for MMX instructions that are plain C */

#endif
