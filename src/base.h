/* base.h - compiler, byte order and plain C helpers under everything else.
 *
 * Contract   Every part includes machine.h, which includes this first. It is the only file that uses a compiler extension;
 *            each one has a plain C99 fallback, chosen with -DEMU_PLAIN too so that tests can build it.
 * Invariants 1. No object here has state: inline functions and macros only.
 *            2. Guest, packet and image bytes are read and written by ld*()/st*() only: any alignment, any host order.
 */
#ifndef EMU_BASE_H
#define EMU_BASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* POSIX, pty and namespace calls in host/; must precede every system header */
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1
#endif

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) && !defined(EMU_PLAIN)
#define EMU_LIKELY(x) __builtin_expect(!!(x), 1)
#define EMU_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define EMU_NOINLINE __attribute__((noinline))
#define EMU_ALWAYS_INLINE static inline __attribute__((always_inline, unused))
#define EMU_INLINE static inline __attribute__((unused))
#define EMU_UNUSED __attribute__((unused))
#define EMU_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define EMU_COLD __attribute__((cold, noinline))
#define EMU_PREFETCH(p) __builtin_prefetch(p)
#else
#define EMU_LIKELY(x) (x)
#define EMU_UNLIKELY(x) (x)
#define EMU_NOINLINE
#define EMU_ALWAYS_INLINE static inline
#define EMU_INLINE static inline
#define EMU_UNUSED
#define EMU_PRINTF(fmt, first)
#define EMU_COLD
#define EMU_PREFETCH(p) ((void)(p))
#endif

/* Tail calls for the CPU's handlers: 1 where the compiler gives them for sure (an optimising gcc or clang on a 64-bit host, no sanitizer);
 * else handlers return to a plain loop. -DEMU_TAIL_CALLS=0 chooses the loop. */
#if defined(__has_attribute) && !defined(EMU_PLAIN)
#if __has_attribute(musttail)
#define EMU_MUSTTAIL __attribute__((musttail))
#endif
#endif
#ifndef EMU_MUSTTAIL
#define EMU_MUSTTAIL
#endif
#ifndef EMU_TAIL_CALLS
#if defined(__GNUC__) && !defined(EMU_PLAIN) && defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && UINTPTR_MAX > 0xFFFFFFFFu && \
    (defined(__x86_64__) || defined(__aarch64__) || defined(__riscv) || defined(__s390x__))
#define EMU_TAIL_CALLS 1
#else
#define EMU_TAIL_CALLS 0
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(undefined_behavior_sanitizer) || __has_feature(memory_sanitizer)
#undef EMU_TAIL_CALLS
#define EMU_TAIL_CALLS 0
#endif
#endif
#endif
#if EMU_TAIL_CALLS && !defined(__clang__)
/* Each handler keeps an indirect jump of its own, by which the host predicts the next one: gcc would share the jumps of handlers that end alike.
 * no-tree-ter: values computed where they are written need fewer moves between registers here. */
#define EMU_TAIL_ATTR __attribute__((optimize("no-tree-ter", "optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf", "no-crossjumping")))
#else
#define EMU_TAIL_ATTR
#endif

/* Functions used across parts: static in the one-file build, external when the parts are compiled one by one. */
#ifdef EMU_AMALGAMATION
#define EMU_PRIV static EMU_UNUSED
#else
#define EMU_PRIV
#endif

#if (defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) || defined(__BIG_ENDIAN__)
#define EMU_BIG_ENDIAN 1
#else
#define EMU_BIG_ENDIAN 0
#endif

#define EMU_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define EMU_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
/* Static assertion for C99: a negative array size stops the build; tag must be unique in the amalgamation. */
#define EMU_STATIC_ASSERT(cond, tag) typedef char emu_static_assert_##tag[(cond) ? 1 : -1] EMU_UNUSED
#define EMU_MIN(a, b) ((a) < (b) ? (a) : (b))
#define EMU_MAX(a, b) ((a) > (b) ? (a) : (b))

#define NS_PER_SEC INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_US INT64_C(1000)
#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* ---- byte swapping and unaligned little/big-endian access ---- */
#if defined(__GNUC__) && !defined(EMU_PLAIN)
#define bswap16(x) __builtin_bswap16(x)
#define bswap32(x) __builtin_bswap32(x)
#define bswap64(x) __builtin_bswap64(x)
#else
EMU_INLINE uint16_t bswap16(uint16_t x) { return (uint16_t)((x >> 8) | (x << 8)); }
EMU_INLINE uint32_t bswap32(uint32_t x)
{
    return (x >> 24) | ((x >> 8) & 0xFF00u) | ((x << 8) & 0xFF0000u) | (x << 24);
}
EMU_INLINE uint64_t bswap64(uint64_t x) { return ((uint64_t)bswap32((uint32_t)x) << 32) | bswap32((uint32_t)(x >> 32)); }
#endif

#if EMU_BIG_ENDIAN
#define EMU_LE16(x) bswap16(x)
#define EMU_LE32(x) bswap32(x)
#define EMU_LE64(x) bswap64(x)
#define EMU_BE16(x) (x)
#define EMU_BE32(x) (x)
#define EMU_BE64(x) (x)
#else
#define EMU_LE16(x) (x)
#define EMU_LE32(x) (x)
#define EMU_LE64(x) (x)
#define EMU_BE16(x) bswap16(x)
#define EMU_BE32(x) bswap32(x)
#define EMU_BE64(x) bswap64(x)
#endif

EMU_ALWAYS_INLINE uint8_t ld8(const void *p) { return *(const uint8_t *)p; }
EMU_ALWAYS_INLINE void st8(void *p, uint8_t v) { *(uint8_t *)p = v; }
#define EMU_DEFINE_ACCESS(bits, order, ORDER)                                                                          \
    EMU_ALWAYS_INLINE uint##bits##_t ld##bits##order(const void *p)                                                    \
    {                                                                                                                  \
        uint##bits##_t v;                                                                                              \
        memcpy(&v, p, sizeof v);                                                                                       \
        return (uint##bits##_t)EMU_##ORDER##bits(v);                                                                   \
    }                                                                                                                  \
    EMU_ALWAYS_INLINE void st##bits##order(void *p, uint##bits##_t v)                                                  \
    {                                                                                                                  \
        v = (uint##bits##_t)EMU_##ORDER##bits(v);                                                                      \
        memcpy(p, &v, sizeof v);                                                                                       \
    }
EMU_DEFINE_ACCESS(16, le, LE)
EMU_DEFINE_ACCESS(32, le, LE)
EMU_DEFINE_ACCESS(64, le, LE)
EMU_DEFINE_ACCESS(16, be, BE)
EMU_DEFINE_ACCESS(32, be, BE)
EMU_DEFINE_ACCESS(64, be, BE)
#undef EMU_DEFINE_ACCESS

/* A little-endian value of 1, 2, 4 or 8 bytes. */
EMU_INLINE uint64_t ldn_le(const void *p, unsigned size)
{
    switch (size) {
    case 1: return ld8(p);
    case 2: return ld16le(p);
    case 4: return ld32le(p);
    default: return ld64le(p);
    }
}
EMU_INLINE void stn_le(void *p, uint64_t v, unsigned size)
{
    switch (size) {
    case 1: st8(p, (uint8_t)v); break;
    case 2: st16le(p, (uint16_t)v); break;
    case 4: st32le(p, (uint32_t)v); break;
    default: st64le(p, v); break;
    }
}

/* ---- bits ---- */
/* Leading and trailing zeros; undefined for 0, as the builtins are. */
#if defined(__GNUC__) && !defined(EMU_PLAIN)
EMU_ALWAYS_INLINE unsigned clz64(uint64_t x) { return (unsigned)__builtin_clzll(x); }
EMU_ALWAYS_INLINE unsigned ctz64(uint64_t x) { return (unsigned)__builtin_ctzll(x); }
#else
EMU_INLINE unsigned clz64(uint64_t x)
{
    unsigned n = 0, s;
    for (s = 32; s; s >>= 1)
        if (!(x >> (64 - s))) {
            n += s;
            x <<= s;
        }
    return n;
}
EMU_INLINE unsigned ctz64(uint64_t x) { return 63 - clz64(x & (0 - x)); }
#endif

/* Set bits. The builtin is a call into the compiler's library where the target's baseline has no such instruction. */
EMU_INLINE unsigned popcount64(uint64_t x)
{
    x -= (x >> 1) & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    return (unsigned)((x * UINT64_C(0x0101010101010101)) >> 56);
}

/* Signed value of the low bits, without relying on implementation-defined shifts. */
EMU_ALWAYS_INLINE int64_t sext64(uint64_t x, unsigned bits)
{
    uint64_t m = UINT64_C(1) << (bits - 1);
    x &= (m << 1) - 1;
    return (int64_t)((x ^ m) - m);
}
/* Arithmetic shift right of a 64-bit pattern, 0 <= n <= 63. */
EMU_ALWAYS_INLINE uint64_t sar64(uint64_t x, unsigned n) { return (x >> 63) ? ~(~x >> n) : x >> n; }

/* ---- 64x64 -> 128 bit multiplication, 128/64 division ---- */
#if defined(__SIZEOF_INT128__) && !defined(EMU_PLAIN)
__extension__ typedef unsigned __int128 emu_u128;
#define EMU_HAVE_U128 1
EMU_ALWAYS_INLINE uint64_t mul64(uint64_t a, uint64_t b, uint64_t *high)
{
    emu_u128 r = (emu_u128)a * b;
    *high = (uint64_t)(r >> 64);
    return (uint64_t)r;
}
#else
#define EMU_HAVE_U128 0
EMU_INLINE uint64_t mul64(uint64_t a, uint64_t b, uint64_t *high)
{
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t ll = al * bl, lh = al * bh, hl = ah * bl, hh = ah * bh;
    uint64_t mid = (ll >> 32) + (uint32_t)lh + (uint32_t)hl;
    *high = hh + (lh >> 32) + (hl >> 32) + (mid >> 32);
    return (mid << 32) | (uint32_t)ll;
}
#endif
/* Signed product: low half returned, high half (two's complement) in *high. */
EMU_INLINE uint64_t muls64(uint64_t a, uint64_t b, uint64_t *high)
{
    uint64_t lo = mul64(a, b, high);
    if (a >> 63)
        *high -= b;
    if (b >> 63)
        *high -= a;
    return lo;
}
/* (high:low) / divisor for high < divisor: quotient returned, remainder in *rem. */
EMU_INLINE uint64_t div128(uint64_t high, uint64_t low, uint64_t divisor, uint64_t *rem)
{
#if EMU_HAVE_U128
    emu_u128 n = ((emu_u128)high << 64) | low;
    *rem = (uint64_t)(n % divisor);
    return (uint64_t)(n / divisor);
#else
    int i;
    for (i = 0; i < 64; i++) {
        uint64_t carry = high >> 63;
        high = (high << 1) | (low >> 63);
        low <<= 1;
        if (carry || high >= divisor) {
            high -= divisor;
            low |= 1;
        }
    }
    *rem = high;
    return low;
#endif
}
/* a * b / c without overflow of the intermediate product; c != 0, result must fit 64 bits. */
EMU_INLINE uint64_t muldiv64(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t high, rem, low = mul64(a, b, &high);
    return div128(high % c, low, c, &rem);
}

#endif
