/* emu.c - a PC in one C file. GENERATED from src/ by `make emu.c`: edit there, not here.
 *
 * Build:  cc -O2 emu.c -o emu
 * Use:    ./emu -nographic disk.img
 * Embed:  compile with -DEMU_NO_MAIN and read emu.h.
 *
 * SPDX-License-Identifier: MIT
 */
#define EMU_AMALGAMATION 1

/* ======================================== src/base.h ======================================== */

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
#define EMU_TAIL_ATTR __attribute__((optimize("optimize-sibling-calls")))
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
/* Leading/trailing zeros and set bits; clz/ctz are undefined for 0, as the builtins are. */
#if defined(__GNUC__) && !defined(EMU_PLAIN)
EMU_ALWAYS_INLINE unsigned clz64(uint64_t x) { return (unsigned)__builtin_clzll(x); }
EMU_ALWAYS_INLINE unsigned ctz64(uint64_t x) { return (unsigned)__builtin_ctzll(x); }
EMU_ALWAYS_INLINE unsigned popcount64(uint64_t x) { return (unsigned)__builtin_popcountll(x); }
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
EMU_INLINE unsigned popcount64(uint64_t x)
{
    x -= (x >> 1) & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    return (unsigned)((x * UINT64_C(0x0101010101010101)) >> 56);
}
#endif

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

/* ======================================== src/host/host.h ======================================== */

/* host/host.h - everything emu asks of the operating system.
 *
 * Contract   The only interface to OS calls. Implemented by host/posix.c, host/windows.c or host/none.c (one of them is compiled in).
 *            Calls return >= 0 or a negative EMU_E... code; *err (may be NULL) then names the cause in the host's words.
 * Invariants 1. Nothing here knows a device, a guest or a packet.
 *            2. No call blocks, except host_poll() with a timeout and file I/O on local files.
 */
#ifndef EMU_HOST_H
#define EMU_HOST_H

struct err; /* machine.h */

/* Which of the three implementations is compiled in. */
#if defined(EMU_HOST_NONE)
#elif defined(_WIN32)
#define EMU_HOST_WINDOWS 1
#elif defined(__unix__) || defined(__unix) || defined(__APPLE__) || defined(__HAIKU__)
#define EMU_HOST_POSIX 1
#else
#define EMU_HOST_NONE 1
#endif

/* A file descriptor, or a socket or handle on Windows. */
typedef intptr_t host_fd;
#define HOST_FD_NONE ((host_fd)-1)

/* ---- time and randomness ---- */
EMU_PRIV int64_t host_clock_ns(void);                    /* monotonic */
EMU_PRIV int64_t host_wall_ns(void);                     /* since 1970-01-01 UTC */
EMU_PRIV int64_t host_local_offset_s(int64_t wall_s);    /* local time minus UTC at that moment, seconds */
EMU_PRIV void host_random(void *buf, size_t size);       /* from the OS; never fails (falls back to the clock) */

/* ---- memory: zero-filled, taken from the host only as it is touched; NULL when refused ---- */
EMU_PRIV void *host_map_memory(size_t size_bytes);
EMU_PRIV void host_unmap_memory(void *p, size_t size_bytes);
EMU_PRIV void host_discard_memory(void *p, size_t size_bytes); /* back to zeros, pages returned to the host */

/* ---- files (images): positioned, whole-transfer I/O with 64-bit offsets ---- */
struct host_file;
enum { HOST_OPEN_WRITE = 1, HOST_OPEN_CREATE = 2, HOST_OPEN_TRUNCATE = 4, HOST_OPEN_EXCLUSIVE = 8, HOST_OPEN_DIRECT = 16 };
EMU_PRIV int host_file_open(struct host_file **out, const char *path, int flags, struct err *err);
EMU_PRIV int host_file_temp(struct host_file **out, struct err *err); /* unnamed, gone when closed */
EMU_PRIV void host_file_close(struct host_file *f);
EMU_PRIV int64_t host_file_size(struct host_file *f); /* bytes (block devices too), or EMU_E... */
EMU_PRIV int host_file_read(struct host_file *f, uint64_t offset, void *buf, size_t size);  /* past the end: zeros */
EMU_PRIV int host_file_write(struct host_file *f, uint64_t offset, const void *buf, size_t size);
EMU_PRIV int host_file_flush(struct host_file *f);                       /* data is on stable storage when it returns */
EMU_PRIV int host_file_discard(struct host_file *f, uint64_t offset, uint64_t size); /* reads as zeros after; EMU_ENOTSUP if it can't */
EMU_PRIV int host_file_resize(struct host_file *f, uint64_t size);
EMU_PRIV int host_file_next_data(struct host_file *f, uint64_t offset, uint64_t *data_start, uint64_t *data_end); /* sparse map; EMU_ENOTSUP */
EMU_PRIV int host_file_lock(struct host_file *f, bool exclusive);        /* against other emulators and qemu (OFD locks); EMU_EBUSY */
EMU_PRIV bool host_file_same(struct host_file *a, struct host_file *b);  /* two openings of one file; false where the host can't tell */
EMU_PRIV bool host_file_is_device(struct host_file *f);                  /* block or raw device: its size is fixed */
EMU_PRIV int host_file_load(const char *path, uint8_t **data, size_t *size, size_t limit, struct err *err); /* whole file, free() it */
EMU_PRIV int host_file_save(const char *path, const void *data, size_t size, struct err *err);
enum host_file_kind { HOST_KIND_NONE, HOST_KIND_FILE, HOST_KIND_DIR, HOST_KIND_SOCKET, HOST_KIND_CHAR, HOST_KIND_BLOCK, HOST_KIND_OTHER };
EMU_PRIV enum host_file_kind host_path_kind(const char *path);
EMU_PRIV int host_path_remove(const char *path);

/* ---- readiness: one wait for everything ---- */
enum { HOST_READ = 1, HOST_WRITE = 2, HOST_ERROR = 4 };
struct host_poll_item {
    host_fd fd;
    uint8_t want;  /* HOST_READ | HOST_WRITE */
    uint8_t ready; /* set by host_poll */
};
/* Waits until one item is ready or timeout_ns passed (0: just looks, < 0: no limit). Returns how many are ready. */
EMU_PRIV int host_poll(struct host_poll_item *items, size_t count, int64_t timeout_ns);
/* A pipe-like pair that wakes host_poll from a signal handler or another thread. */
EMU_PRIV int host_wake_create(host_fd *read_end, host_fd *write_end);
EMU_PRIV void host_wake(host_fd write_end); /* async-signal-safe */
EMU_PRIV void host_wake_drain(host_fd read_end);

/* ---- byte streams: descriptors, all non-blocking; EMU_EAGAIN when nothing can move now ---- */
EMU_PRIV int host_fd_read(host_fd fd, void *buf, size_t size);         /* bytes, 0 at the end of the stream, or EMU_E... */
EMU_PRIV int host_fd_write(host_fd fd, const void *buf, size_t size);  /* bytes taken, or EMU_E... (EMU_EPIPE: peer gone; no signal) */
EMU_PRIV void host_fd_close(host_fd fd);
EMU_PRIV int host_fd_nonblocking(host_fd fd, bool on);
EMU_PRIV int host_open_stream(host_fd *out, const char *path, bool write, bool append, struct err *err); /* files, fifos, ttys of -serial */
/* The terminal's side is *keep: while it is open, a person who leaves does not make *out report end of file for ever. */
EMU_PRIV int host_open_pty(host_fd *out, host_fd *keep, char *name, size_t name_size, struct err *err);
/* A second, non-blocking descriptor for the terminal or pipe behind fd, so that fd itself (shared with the shell) stays as it is;
 * HOST_FD_NONE where the host can't. */
EMU_PRIV host_fd host_reopen_nonblocking(host_fd fd, bool write);
EMU_PRIV int host_spawn(host_fd *out, long *pid, const char *const *argv, struct err *err); /* child's stdin and stdout on one descriptor */
EMU_PRIV void host_reap(long pid); /* pid of host_spawn(), when its descriptor was closed */

/* ---- sockets ---- */
struct host_addr {
    uint8_t family;   /* HOST_INET, HOST_INET6, HOST_UNIX */
    uint16_t port;    /* host order */
    uint8_t ip[16];   /* 4 or 16 bytes, network order */
    uint32_t scope_id;
    char path[108];   /* HOST_UNIX */
};
enum { HOST_INET = 4, HOST_INET6 = 6, HOST_UNIX = 1 };
enum { HOST_STREAM = 1, HOST_DGRAM = 2, HOST_PING = 3 };
EMU_PRIV int host_resolve(const char *name, uint16_t port, struct host_addr *out, size_t max, struct err *err); /* literal or name; count; may block: start-up only */
EMU_PRIV bool host_addr_parse(const char *text, struct host_addr *out); /* literal IPv4, IPv6, with or without brackets; no port */
EMU_PRIV void host_addr_format(const struct host_addr *a, char *buf, size_t size);
EMU_PRIV int host_socket(host_fd *out, int family, int type);
EMU_PRIV int host_bind(host_fd fd, const struct host_addr *a, bool reuse);
EMU_PRIV int host_listen(host_fd fd, int backlog);
EMU_PRIV int host_accept(host_fd fd, host_fd *out, struct host_addr *peer);
EMU_PRIV int host_connect(host_fd fd, const struct host_addr *a); /* 0, or EMU_EAGAIN while under way: writable when done */
EMU_PRIV int host_socket_error(host_fd fd);                      /* pending SO_ERROR as 0 or EMU_E... */
EMU_PRIV int host_local_addr(host_fd fd, struct host_addr *a);
EMU_PRIV int host_peer_addr(host_fd fd, struct host_addr *a);
EMU_PRIV int host_shutdown_write(host_fd fd);
EMU_PRIV int host_send_to(host_fd fd, const void *buf, size_t size, const struct host_addr *to);
EMU_PRIV int host_recv_from(host_fd fd, void *buf, size_t size, struct host_addr *from);
struct host_iov {
    void *base;
    size_t size;
};
EMU_PRIV int host_readv(host_fd fd, const struct host_iov *iov, int count);
EMU_PRIV int host_writev(host_fd fd, const struct host_iov *iov, int count);
EMU_PRIV int host_set_option(host_fd fd, int option, int value);
enum { HOST_OPT_NODELAY, HOST_OPT_KEEPALIVE, HOST_OPT_SNDBUF, HOST_OPT_RCVBUF, HOST_OPT_TTL, HOST_OPT_BROADCAST, HOST_OPT_OOBINLINE, HOST_OPT_LINGER0, HOST_OPT_V6ONLY, HOST_OPT_RECVERR };
EMU_PRIV int host_join_multicast(host_fd fd, const struct host_addr *group, const struct host_addr *local);
EMU_PRIV int host_resolvers(struct host_addr *out, size_t max, int64_t *changed); /* name servers of the host; *changed: a stamp that moves when they do */

/* ---- the terminal emu was started on ---- */
EMU_PRIV bool host_is_terminal(host_fd fd);
EMU_PRIV host_fd host_stdin(void);
EMU_PRIV host_fd host_stdout(void);
EMU_PRIV int host_terminal_raw(bool raw, bool signals); /* remembered; restored on every exit, also by signal */
EMU_PRIV void host_terminal_size(int *columns, int *rows);

/* ---- process ---- */
EMU_PRIV int host_daemonize(struct err *err);
EMU_PRIV long host_pid(void);
EMU_PRIV void host_on_signals(void (*handler)(int kind)); /* SIGINT, SIGTERM, SIGHUP -> 1; SIGWINCH -> 2; handler must be async-signal-safe */
/* Which frames the host may hand over unfinished on a tap with vnet_hdr; EMU_ENOTSUP. */
EMU_PRIV int host_tap_offload(host_fd fd, bool csum, bool tso4, bool tso6);
EMU_PRIV int host_tap_open(host_fd *out, char *ifname, size_t ifname_size, bool *vnet_hdr, struct err *err); /* EMU_ENOTSUP where there is no tap */

#endif

/* ======================================== src/machine.h ======================================== */

/* machine.h - every struct and prototype that crosses files, grouped by file.
 *
 * The way out:   cpu store -> TLB says I/O -> region write -> device doorbell -> dma_read -> net/blk/chr interface -> backend -> host.
 * The way back:  run loop polls host -> backend -> receive() of the interface -> device -> dma_write -> irq_set -> APIC -> CPU.
 * Dependencies point down: front -> fw/board -> dev -> machine -> base; backends (disk, net, chr) know no device; the CPU knows memory,
 * interrupt acknowledge and exit reasons, no device. Calls upward go through the function pointers declared here.
 *
 * Units: _ns virtual nanoseconds unless it says host; _gpa guest physical; _gva guest virtual (linear); _bytes.
 * Ownership: struct emu owns everything; a struct that a device embeds (region, timer, irq) is owned by that device and must be
 * removed in its destroy(). Errors: 0 or a negative EMU_E... (emu.h); the text for a person goes into struct err.
 */
#ifndef EMU_MACHINE_H
#define EMU_MACHINE_H

#include "emu.h"

struct emu;
struct cpu;
struct device;
struct options;

/* ================= machine/util.c: errors, log, allocation, options ================= */

/* One line for a person: what was asked, what is wrong, what to do. */
struct err {
    char text[480];
};
EMU_PRIV int err_set(struct err *err, int code, const char *fmt, ...) EMU_PRINTF(3, 4);    /* stores, returns code; err may be NULL */
EMU_PRIV int err_prefix(struct err *err, int code, const char *fmt, ...) EMU_PRINTF(3, 4); /* puts "prefix: " before the text */

enum log_mask { /* -d */
    LOG_GUEST_ERROR = 1 << 0,
    LOG_INT = 1 << 1,
    LOG_CPU_RESET = 1 << 2,
    LOG_IN_ASM = 1 << 3,
    LOG_EXEC = 1 << 4,
    LOG_CPU = 1 << 5,
    LOG_UNIMP = 1 << 6,
    LOG_NET = 1 << 7,
    LOG_TRACE = 1 << 8,
    LOG_NOTICE = 1 << 30 /* for the person at the terminal: always shown, on stderr as "emu: ..." */
};
EMU_PRIV void emu_log(struct emu *e, unsigned mask, const char *fmt, ...) EMU_PRINTF(3, 4); /* a line, no newline at the end */
#define EMU_LOG_ENABLED(e, mask) (EMU_UNLIKELY((e)->log_mask & (mask)))
EMU_PRIV void emu_log_once(struct emu *e, bool *said, unsigned mask, const char *fmt, ...) EMU_PRINTF(4, 5);

/* Zeroed memory through the embedder's allocator, or NULL. */
EMU_PRIV void *emu_alloc(struct emu *e, size_t size);
EMU_PRIV void *emu_realloc(struct emu *e, void *p, size_t size); /* new bytes are not zeroed */
EMU_PRIV void emu_free(struct emu *e, void *p);
EMU_PRIV char *emu_strdup(struct emu *e, const char *s);

/* Growing byte buffer, used by monitor replies, packets, tables. A failed growth sets failed and drops further bytes. */
struct buf {
    struct emu *emu;
    uint8_t *data;
    size_t size, capacity;
    bool failed;
};
EMU_PRIV void buf_init(struct buf *b, struct emu *e);
EMU_PRIV void buf_free(struct buf *b);
EMU_PRIV void buf_add(struct buf *b, const void *data, size_t size);
EMU_PRIV void buf_printf(struct buf *b, const char *fmt, ...) EMU_PRINTF(2, 3);

/* key=value,key=value lists of the command line ("," is written ",,"). A bare first word takes the key that the option calls its
 * implied key; other bare words are key=on, and nowait is wait=off. Order and repetition are kept. Each read marks its entry used;
 * options_check_used() makes an error of the first unused one. */
struct option {
    char *key, *value;
    bool used;
};
struct options {
    struct emu *emu;
    char *origin; /* as written, for messages: "-drive file=x,if=ide" */
    struct option *items;
    size_t count;
};
EMU_PRIV int options_parse(struct options *o, struct emu *e, const char *origin, const char *text, const char *implied_key, struct err *err);
EMU_PRIV void options_free(struct options *o);
EMU_PRIV int options_set(struct options *o, const char *key, const char *value);
EMU_PRIV const char *options_get(struct options *o, const char *key);                          /* last value, or NULL */
EMU_PRIV const char *options_get_nth(struct options *o, const char *key, size_t n);            /* n-th repetition, or NULL */
EMU_PRIV int options_bool(struct options *o, const char *key, bool *value, struct err *err);   /* unchanged where absent */
EMU_PRIV int options_u64(struct options *o, const char *key, uint64_t min, uint64_t max, uint64_t *value, struct err *err);
EMU_PRIV int options_size(struct options *o, const char *key, uint64_t *bytes, struct err *err); /* 64K, 1.5G; plain = bytes */
EMU_PRIV int options_check_used(struct options *o, struct err *err);
EMU_PRIV int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *value);            /* decimal, 0x, 0 octal; whole string */
EMU_PRIV int parse_size(const char *s, char default_suffix, uint64_t *bytes);                  /* suffix b k M G T P E */

/* ================= machine/clock.c: virtual time and events ================= */

typedef void (*timer_fn)(void *opaque);
struct timer {
    int64_t deadline_ns;
    timer_fn fn;
    void *opaque;
    uint64_t order; /* equal deadlines fire in the order they were armed */
    int heap_index; /* -1: not armed */
    struct emu *emu;
};
EMU_PRIV int64_t emu_now_ns(struct emu *e); /* virtual; monotonic; exact instruction count under -icount */
EMU_PRIV void timer_init(struct timer *t, struct emu *e, timer_fn fn, void *opaque);
EMU_PRIV void timer_arm(struct timer *t, int64_t deadline_ns); /* moves it if it is armed; a past deadline fires at the next look */
EMU_PRIV void timer_cancel(struct timer *t);
EMU_PRIV bool timer_armed(const struct timer *t);
EMU_PRIV int64_t clock_next_deadline(struct emu *e); /* INT64_MAX: none */
EMU_PRIV void clock_run_timers(struct emu *e);
EMU_PRIV void clock_freeze(struct emu *e, bool frozen); /* monitor stop / cont */
EMU_PRIV void clock_warp_to(struct emu *e, int64_t ns); /* -icount only: idle time is skipped */
EMU_PRIV int clock_create(struct emu *e);
EMU_PRIV void clock_destroy(struct emu *e);

/* ================= machine/memory.c: guest memory and port space ================= */

typedef uint64_t (*region_read_fn)(void *opaque, uint64_t offset, unsigned size);
typedef void (*region_write_fn)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
/* How a device answers. min/max: sizes the callbacks see (1, 2, 4, 8; 0 = 1 and 4). Wider guest accesses are cut, narrower ones are
 * widened by read (aligned) for reads; narrower writes are passed on as they are where write_any is set, else read-modify-written. */
struct region_ops {
    region_read_fn read;
    region_write_fn write;
    uint8_t min_size, max_size;
    bool write_any;
};

/* A host-backed block of guest bytes. page_flags: one byte per 4 KiB page. */
enum page_flag {
    PAGE_HAS_CODE = 1, /* cached traces were made from it: writers call mem_written() */
    PAGE_TRACKED = 2,  /* clean for a dirty tracker (display): the first write sets PAGE_DIRTY and clears this */
    PAGE_DIRTY = 4,
    PAGE_WATCHED = 8   /* debugger watchpoint: every access takes the slow path */
};
struct ram_block {
    char name[24];
    uint32_t id; /* index in emu->blocks */
    uint8_t *bytes;
    uint64_t size_bytes;
    uint8_t *page_flags;
    bool rom; /* guest stores are dropped */
};
/* size is rounded up to 4 KiB. NULL and err when the host refuses. Freed with the machine. */
EMU_PRIV struct ram_block *ram_block_create(struct emu *e, const char *name, uint64_t size_bytes, bool rom, struct err *err);

enum region_kind { REGION_RAM, REGION_IO };
enum { REGION_READS = 1, REGION_WRITES = 2 }; /* which accesses it answers: PAM sends reads and writes to different places */
struct region {
    const char *name;
    uint64_t base, size; /* base: guest-physical address or port number */
    int priority;        /* of overlapping regions the highest wins; then the one added last */
    uint8_t kind;
    uint8_t access; /* REGION_READS | REGION_WRITES */
    bool enabled;
    bool added;
    const struct region_ops *ops; /* REGION_IO */
    void *opaque;
    struct ram_block *block; /* REGION_RAM */
    uint64_t block_offset;
    uint64_t order;
    struct region *next;
};
/* The flattened map: sorted, gap-free ranges; NULL = nobody there (reads all ones, writes dropped). */
struct map_range {
    uint64_t start, end; /* end is exclusive, 0 = 2^64 */
    struct region *rd, *wr;
};
struct map {
    struct region *regions;
    struct map_range *ranges;
    size_t range_count, range_capacity;
    uint64_t order;
    bool dirty;
    uint16_t *port_index; /* port map only: range of each port */
};
EMU_PRIV void region_init_io(struct region *r, const char *name, const struct region_ops *ops, void *opaque, uint64_t size);
EMU_PRIV void region_init_ram(struct region *r, const char *name, struct ram_block *block, uint64_t block_offset, uint64_t size);
EMU_PRIV int region_add(struct emu *e, struct map *map, struct region *r, uint64_t base, int priority); /* enabled */
EMU_PRIV void region_remove(struct emu *e, struct map *map, struct region *r);
EMU_PRIV void region_set(struct emu *e, struct map *map, struct region *r, uint64_t base, bool enabled);
/* Ports, the short way: maps [port, port+count) to ops. */
EMU_PRIV int port_add(struct emu *e, struct region *r, const char *name, uint16_t port, unsigned count, const struct region_ops *ops, void *opaque);
EMU_PRIV uint64_t port_read(struct emu *e, uint16_t port, unsigned size);
EMU_PRIV void port_write(struct emu *e, uint16_t port, uint64_t value, unsigned size);

/* What a guest-physical page is, for TLB and trace cache. */
struct phys_page {
    struct region *rd, *wr;       /* NULL: unmapped */
    struct ram_block *block;      /* block that reads (and fetches) come from, or NULL: I/O */
    uint64_t block_offset;        /* of the page's first byte */
    uint8_t *host;                /* block->bytes + block_offset, or NULL */
    bool writable_direct;         /* stores may go to host too (same RAM for both, not rom); page_flags still to be asked */
    bool partial;                 /* the page holds more than one range: every access must go through mem_read/mem_write */
};
EMU_PRIV void mem_resolve(struct emu *e, uint64_t gpa, struct phys_page *out); /* gpa: any address within the page */

/* DMA and every other access by guest-physical address. RAM, ROM and I/O, page crossing and code invalidation are handled.
 * Never fails: unmapped reads give all ones. */
EMU_PRIV void mem_read(struct emu *e, uint64_t gpa, void *buf, size_t size);
EMU_PRIV void mem_write(struct emu *e, uint64_t gpa, const void *buf, size_t size);
EMU_PRIV uint64_t mem_ld(struct emu *e, uint64_t gpa, unsigned size); /* 1, 2, 4, 8; little-endian */
EMU_PRIV void mem_st(struct emu *e, uint64_t gpa, uint64_t value, unsigned size);
EMU_PRIV bool mem_is_ram(struct emu *e, uint64_t gpa, uint64_t size); /* wholly plain RAM: no side effect */
#define dma_read mem_read
#define dma_write mem_write
/* Host pointer to [gpa, gpa+*size) with *size cut at the end of the RAM; NULL if it is no plain RAM. After writing call mem_written. */
EMU_PRIV uint8_t *mem_host(struct emu *e, uint64_t gpa, uint64_t *size, bool write);
/* To be called by everyone who writes to block bytes behind the CPU's back, after the write. */
EMU_PRIV void mem_written(struct emu *e, struct ram_block *block, uint64_t block_offset, uint64_t size);
/* Loader's door: writes into RAM and ROM alike. EMU_EFAULT if something else is there. */
EMU_PRIV int mem_load(struct emu *e, uint64_t gpa, const void *data, size_t size);
EMU_PRIV void mem_track_dirty(struct emu *e, struct ram_block *block, uint64_t offset, uint64_t size); /* marks clean and tracked */
EMU_PRIV int memory_create(struct emu *e, struct err *err);
EMU_PRIV void memory_destroy(struct emu *e);
EMU_PRIV void mem_print_map(struct emu *e, struct buf *out); /* info mtree */

/* ================= interrupt lines ================= */
struct irq {
    void (*set)(void *opaque, int line, int level);
    void *opaque;
    int line;
};
EMU_INLINE void irq_set(const struct irq *irq, int level)
{
    if (irq->set)
        irq->set(irq->opaque, irq->line, level);
}
EMU_INLINE void irq_pulse(const struct irq *irq)
{
    irq_set(irq, 1);
    irq_set(irq, 0);
}

/* ================= machine/loop.c: the run loop, polling, stop and reset requests ================= */

enum run_state { RUN_STATE_RUNNING, RUN_STATE_PAUSED, RUN_STATE_SHUTDOWN, RUN_STATE_SUSPENDED };
enum request { /* bits of emu->requests; set from devices, monitor, signal handlers */
    REQ_RESET = 1,
    REQ_SHUTDOWN = 2,  /* ends the run (or pauses, -no-shutdown) */
    REQ_POWERDOWN = 4, /* ACPI power button */
    REQ_STOP = 8,      /* pause */
    REQ_EXIT = 16,     /* leave emu_run with status emu->exit_status */
    REQ_BREAK = 32,    /* debugger: leave the CPU loop and look */
    REQ_EMBEDDER = 64  /* emu_stop() */
};
EMU_PRIV void emu_request(struct emu *e, unsigned bits); /* from the machine's thread or a signal handler */
EMU_PRIV void emu_exit_with(struct emu *e, int status);  /* REQ_EXIT and its status (isa-debug-exit, quit) */

/* A descriptor somebody waits for. Embedded in its owner. */
struct watch {
    host_fd fd;
    uint8_t want; /* HOST_READ | HOST_WRITE; 0: dormant */
    void (*ready)(void *opaque, unsigned events);
    void *opaque;
    struct watch *next, **link;
    bool removed;
};
EMU_PRIV void watch_add(struct emu *e, struct watch *w, host_fd fd, unsigned want, void (*ready)(void *, unsigned), void *opaque);
EMU_PRIV void watch_remove(struct emu *e, struct watch *w);
EMU_INLINE void watch_want(struct watch *w, unsigned want) { w->want = (uint8_t)want; }
/* A callback once per poll round (at most every poll interval): backends that batch (NAT). */
struct poll_hook {
    void (*fn)(void *opaque);
    void *opaque;
    struct poll_hook *next;
};
EMU_PRIV void poll_hook_add(struct emu *e, struct poll_hook *h);
EMU_PRIV void poll_hook_remove(struct emu *e, struct poll_hook *h);
EMU_PRIV void emu_poll_now(struct emu *e); /* network activity: look at descriptors soon (within 0.2 ms) */
EMU_PRIV int machine_run(struct emu *e, int64_t max_host_ns, int64_t max_insns, bool may_block); /* enum emu_reason */
EMU_PRIV void machine_pause(struct emu *e);
EMU_PRIV int machine_resume(struct emu *e); /* EMU_EINVAL after a shutdown that -no-shutdown kept: reset first */
EMU_PRIV void machine_reset(struct emu *e); /* at once; outside of cpu_run() only: others use emu_request(REQ_RESET) */
EMU_PRIV void machine_step(struct emu *e, struct cpu *c); /* one instruction of a paused machine */
EMU_PRIV int loop_create(struct emu *e);
EMU_PRIV void loop_destroy(struct emu *e); /* emu_run's engine; front/api.c */

/* ================= devices ================= */

struct opt_desc { /* a device's option, for help and for checking names */
    const char *name, *type, *help; /* type: "bool", "u32", "size", "str", "mac", "drive", "netdev", "chardev" */
};
struct device_class {
    const char *name, *bus, *help;     /* bus: "pci", "isa", "ide", "system" */
    const struct opt_desc *options;    /* ends with a NULL name */
    size_t instance_size;              /* struct whose first member is struct device (or struct pci_device) */
    int (*create)(struct device *dev, struct options *opts, struct err *err); /* dev is zeroed, cls/emu/id set */
    void (*reset)(struct device *dev); /* power-on and system reset */
    void (*destroy)(struct device *dev);
    bool user_creatable;               /* -device NAME */
};
struct device {
    const struct device_class *cls;
    struct emu *emu;
    char *id; /* -device id=, or NULL */
    struct device *next;
};
/* machine/board.c: the table of all classes, the PC's wiring. */
EMU_PRIV const struct device_class *device_class_find(const char *name);
EMU_PRIV const struct device_class *device_class_at(size_t i); /* NULL at the end */
EMU_PRIV struct device *device_create(struct emu *e, const char *class_name, const char *id, struct options *opts, struct err *err);
EMU_PRIV void device_destroy(struct device *dev);
EMU_PRIV struct device *device_find(struct emu *e, const char *class_name); /* first of that class, or NULL */
EMU_PRIV int board_create(struct emu *e, struct err *err);   /* from emu->config */
EMU_PRIV void board_destroy(struct emu *e);
EMU_PRIV void board_reset(struct emu *e);

/* ================= dev/pci.c ================= */
struct pci_device;
struct pci_bar {
    struct region region;
    uint64_t size;
    bool io, mem64, prefetch, present;
};
struct pci_device {
    struct device dev;
    struct pci_bus *bus;
    uint8_t devfn;
    uint8_t config[256];
    uint8_t wmask[256]; /* bits a guest may change */
    uint8_t w1c[256];   /* bits a guest clears by writing one */
    struct pci_bar bars[7]; /* 6: expansion ROM */
    uint8_t intx_level;
    uint16_t msi_cap, msix_cap; /* offset in config, 0 = none */
    uint16_t cap_end;           /* first byte behind the capabilities, 0 = there is none */
    struct pci_msix *msix;      /* pci.c: table and pending bits, NULL = none */
    uint32_t (*config_read)(struct pci_device *d, unsigned offset, unsigned size);               /* NULL: pci_config_read */
    void (*config_write)(struct pci_device *d, unsigned offset, uint32_t value, unsigned size);  /* NULL: pci_config_write */
};
struct pci_bus {
    struct emu *emu;
    struct pci_device *devices[256];
    struct irq intx[4];       /* PIRQ A-D of the host bridge's router */
    uint8_t intx_count[4];
    uint32_t address;         /* CF8h */
    struct region cf8, cfc;
};
/* Fills ids and header; devfn < 0: the next free slot. To be called first in a PCI device's create(). */
EMU_PRIV int pci_device_init(struct pci_device *d, int devfn, uint16_t vendor, uint16_t device, uint32_t class_rev, struct err *err);
EMU_PRIV void pci_set_subsystem(struct pci_device *d, uint16_t vendor, uint16_t device);
EMU_PRIV void pci_add_bar_io(struct pci_device *d, unsigned bar, const char *name, uint64_t size, bool port_space, const struct region_ops *ops, void *opaque);
EMU_PRIV void pci_add_bar_ram(struct pci_device *d, unsigned bar, struct ram_block *block, bool prefetch);
EMU_PRIV unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned size); /* offset */
EMU_PRIV void pci_set_intx(struct pci_device *d, int level); /* level of its INTA# (per interrupt pin register) */
EMU_PRIV uint32_t pci_config_read(struct pci_device *d, unsigned offset, unsigned size);
EMU_PRIV void pci_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size);
EMU_PRIV void pci_device_reset(struct pci_device *d); /* command, BARs, interrupt line; called by the bus before cls->reset */
EMU_PRIV void pci_device_remove(struct pci_device *d);
EMU_INLINE bool pci_bus_master(const struct pci_device *d) { return (d->config[4] & 4) != 0; }
EMU_PRIV int pci_add_msi(struct pci_device *d, unsigned vectors);
EMU_PRIV bool pci_msi_enabled(const struct pci_device *d);
EMU_PRIV void pci_msi_send(struct pci_device *d, unsigned vector);
EMU_PRIV int pci_bus_create(struct emu *e, struct err *err);
EMU_PRIV void pci_print_info(struct emu *e, struct buf *out);

/* ================= chipset: dev/{i440fx,piix3,pic,ioapic,lapic,pit,hpet,rtc,dma,acpi_pm}.c ================= */
/* Interrupt input n (0-23) of the PC: ISA lines 0-15 go to the 8259 pair and the IO-APIC (line 0 to its pin 2), 16-23 to the IO-APIC. */
EMU_PRIV struct irq board_gsi(struct emu *e, int gsi);
EMU_PRIV void apic_deliver_msi(struct emu *e, uint64_t address, uint32_t data);
/* The interrupt controllers' side of a CPU: which vector it is to take now (-1: none after all), and whether one waits. */
EMU_PRIV int apic_acknowledge(struct emu *e, struct cpu *cpu);
EMU_PRIV uint64_t lapic_msr_read(struct cpu *cpu, uint32_t msr, bool *fault);   /* IA32_APIC_BASE, x2APIC range, TSC_DEADLINE */
EMU_PRIV void lapic_msr_write(struct cpu *cpu, uint32_t msr, uint64_t value, bool *fault);
EMU_PRIV uint64_t lapic_get_tpr(struct cpu *cpu); /* CR8 */
EMU_PRIV void lapic_set_tpr(struct cpu *cpu, uint64_t value);
EMU_PRIV uint8_t rtc_get_cmos(struct emu *e, unsigned index);
EMU_PRIV void rtc_set_cmos(struct emu *e, unsigned index, uint8_t value);
/* 8237: a device on channel n asks for a transfer. read: memory -> device. Returns bytes moved. */
EMU_PRIV size_t dma8237_transfer(struct emu *e, unsigned channel, uint8_t *buf, size_t size, bool to_memory, bool *terminal_count);
EMU_PRIV void acpi_power_button(struct emu *e);
EMU_PRIV void acpi_sleep_button(struct emu *e);

/* ================= dev/fw_cfg.c ================= */
EMU_PRIV int fw_cfg_add_file(struct emu *e, const char *name, const void *data, size_t size); /* copied */
EMU_PRIV int fw_cfg_add_key(struct emu *e, uint16_t key, const void *data, size_t size);

/* ================= block interface (disk/block.c; images: disk/raw.c, disk/qcow2.c) ================= */
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };
struct blk;
struct blk_request { /* owned by the device until done() was called */
    uint8_t op;
    uint64_t offset; /* bytes, multiple of 512 */
    uint64_t size;
    const struct host_iov *iov;
    int iov_count;
    void (*done)(void *opaque, int result); /* 0 or EMU_E...; always from the event queue, never inside blk_submit() */
    void *opaque;
    struct blk_request *next;
    int result;
    struct timer timer;
    struct blk *blk;
    bool again; /* block.c: to be tried once more (werror=stop) */
};
struct blk { /* what a device sees: a drive, with or without medium */
    struct emu *emu;
    char *id;
    struct image *image; /* NULL: empty */
    bool read_only, removable, locked, tray_open;
    uint64_t size_bytes;
    void (*media_changed)(void *opaque); /* set by the device */
    void *opaque;
    struct blk *next;
    unsigned in_flight;
    struct options *opts; /* the -drive line */
    bool in_use; /* a device took it */
    uint64_t stat_reads, stat_writes, stat_read_bytes, stat_write_bytes, stat_flushes;
    /* block.c's own: what the -drive line said, and what is under way */
    char *file, *format;
    char *serial; /* serial=, or NULL; for the device's identity */
    bool want_read_only, write_through, snapshot, said_full, said_error;
    uint8_t detect_zeroes, on_read_error, on_write_error;
    unsigned image_flags;
    struct blk_request *requests;
    uint8_t *bounce;
};
EMU_PRIV void blk_submit(struct blk *b, struct blk_request *r);
EMU_PRIV void blk_cancel(struct blk *b, struct blk_request *r); /* done() will not be called */
EMU_PRIV int blk_read_sync(struct blk *b, uint64_t offset, void *buf, size_t size);  /* firmware and polling PIO only */
EMU_PRIV int blk_write_sync(struct blk *b, uint64_t offset, const void *buf, size_t size);
EMU_PRIV int blk_flush_sync(struct blk *b);
EMU_PRIV struct blk *blk_find(struct emu *e, const char *id);
EMU_PRIV struct blk *blk_create(struct emu *e, const char *id, struct err *err); /* an empty drive */
/* opts: file, format, read-only/readonly, snapshot, cache, discard, ... as -drive spells them. */
EMU_PRIV int blk_open(struct blk *b, struct options *opts, struct err *err);
EMU_PRIV int blk_change(struct blk *b, const char *file, const char *format, struct err *err); /* monitor change */
EMU_PRIV int blk_eject(struct blk *b, bool force, struct err *err);
EMU_PRIV void blk_destroy(struct blk *b);
EMU_PRIV void blk_close_all(struct emu *e); /* flushes */
EMU_PRIV void blk_print_info(struct emu *e, struct buf *out);

/* ================= character interface (front/chardev.c) ================= */
enum chr_event { CHR_OPENED, CHR_CLOSED, CHR_BREAK };
struct chr;
struct chr_ops {
    int (*write)(struct chr *c, const void *buf, size_t size); /* bytes taken, 0 = full now */
    void (*accept_input)(struct chr *c);                       /* the front end can receive again */
    void (*close)(struct chr *c);
};
struct chr {
    struct emu *emu;
    char *id;
    const struct chr_ops *ops; /* backend */
    void *backend;
    /* set by the device or the monitor that uses it */
    size_t (*can_receive)(void *opaque);
    void (*receive)(void *opaque, const uint8_t *buf, size_t size);
    void (*event)(void *opaque, enum chr_event ev);
    void (*writable)(void *opaque); /* room again after a short write */
    void *opaque;
    bool in_use, open;
    struct chr *next;
};
EMU_PRIV struct chr *chr_find(struct emu *e, const char *id);
/* spec as after -serial/-monitor: stdio, mon:stdio, file:x, pty, null, tcp:..., unix:..., chardev:id; or with -chardev's syntax */
EMU_PRIV struct chr *chr_open(struct emu *e, const char *id, const char *spec, struct err *err);
EMU_PRIV struct chr *chr_create(struct emu *e, const char *id, struct options *opts, struct err *err); /* -chardev backend,... */
EMU_PRIV int chr_write(struct chr *c, const void *buf, size_t size); /* c may be NULL: everything is taken and dropped */
EMU_PRIV void chr_accept_input(struct chr *c);
EMU_PRIV void chr_close_all(struct emu *e);

/* ================= network link layer (net/link.c): ports and super-frames ================= */
enum net_gso { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_TCP6, NET_GSO_UDP };
#define NET_FRAME_MAX_PIECES 64
struct net_frame { /* a frame, or one that stands for many (gso); valid during the receive() call only */
    const struct host_iov *pieces;
    int count;
    size_t size;
    uint8_t gso;             /* enum net_gso */
    uint16_t gso_size;       /* payload bytes of each cut segment */
    uint16_t header_bytes;   /* ethernet + ip + tcp/udp headers (gso) */
    bool needs_csum;         /* checksum at csum_start + csum_offset is to be filled in over [csum_start, end) by whoever needs it;
                                the field holds the pseudo-header sum */
    bool csum_valid;         /* sender vouches for all checksums */
    uint16_t csum_start, csum_offset;
};
struct net_port {
    struct emu *emu;
    char name[64];
    char model[24];      /* info network */
    struct net_port *peer;
    bool link_down;
    bool takes_gso, takes_csum; /* may receive super-frames / frames with needs_csum */
    uint32_t max_frame;  /* bytes it can take, without gso */
    bool (*can_receive)(struct net_port *p);
    /* 1: taken (or dropped for good), 0: full: the sender keeps it and waits for its own kick() */
    int (*receive)(struct net_port *p, const struct net_frame *f);
    void (*kick)(struct net_port *p); /* the peer can receive again */
    void (*link_changed)(struct net_port *p);
    void (*info)(struct net_port *p, struct buf *out);
    void (*destroy)(struct net_port *p);
    void *opaque;
    struct net_port *next;
    struct net_filter *filters;
    uint64_t frames_in, bytes_in, drops_in;
};
EMU_PRIV int net_send(struct net_port *from, const struct net_frame *f); /* 1 taken, 0 wait for kick() */
EMU_PRIV bool net_can_send(struct net_port *from);
EMU_PRIV void net_kick_peer(struct net_port *p); /* p can receive again */
EMU_PRIV void net_port_register(struct emu *e, struct net_port *p);
EMU_PRIV void net_port_unregister(struct emu *e, struct net_port *p);
EMU_PRIV int net_port_connect(struct net_port *a, struct net_port *b, struct err *err);
EMU_PRIV struct net_port *net_port_find(struct emu *e, const char *name);
EMU_PRIV void net_set_link(struct net_port *p, bool up);
struct net_nic { /* a NIC that the command line asks the board for */
    char model[32], netdev[64], mac[24], id[64];
    struct net_nic *next;
};
EMU_PRIV int net_create(struct emu *e, struct err *err); /* backends, hubs, filters; leaves the wanted NICs in emu->nics */
EMU_PRIV void net_destroy(struct emu *e);
EMU_PRIV int net_netdev_add(struct emu *e, struct options *opts, struct err *err);
EMU_PRIV void net_print_info(struct emu *e, struct buf *out);
/* For a NIC's create(): its options mac= (or the next of 52:54:00:12:34:56...) and netdev=. */
EMU_PRIV int net_mac_option(struct emu *e, struct options *opts, uint8_t mac[6], struct err *err);
EMU_PRIV int net_nic_attach(struct emu *e, struct net_port *nic, struct options *opts, struct err *err);

/* ================= display and input ================= */
struct screen { /* XRGB 8888, host order; owned by the VGA device; valid until the next update */
    uint32_t *pixels;
    int width, height, stride_pixels;
};
struct screen_text { /* text mode contents */
    int columns, rows, cursor_x, cursor_y;
    bool cursor_on;
    uint16_t cells[200 * 100]; /* character | attribute << 8 */
};
struct display_source { /* set by the VGA device in emu->display */
    void (*update)(void *opaque, struct screen *out);         /* renders the present picture */
    bool (*text)(void *opaque, struct screen_text *out);      /* false: a graphics mode */
    uint64_t (*change_count)(void *opaque);                   /* grows when the picture may have changed */
    void *opaque;
};
/* Keys by their AT set 1 code: 0x01-0x7F, 0xE0xx for extended ones as 0x80 | code, Pause as 0xC6, PrintScreen 0xB7. */
struct input_sink {
    void (*key)(void *opaque, int keynum, bool down);
    void (*mouse)(void *opaque, int dx, int dy, int dz, unsigned buttons); /* bit 0 left, 1 right, 2 middle */
    void *opaque;
    struct input_sink *next;
};
EMU_PRIV void input_add(struct emu *e, struct input_sink *s);
EMU_PRIV void input_key(struct emu *e, int keynum, bool down);
EMU_PRIV void input_mouse(struct emu *e, int dx, int dy, int dz, unsigned buttons);

/* ================= firmware (fw/) ================= */
EMU_PRIV int firmware_create(struct emu *e, struct err *err); /* built-in BIOS or -bios; after the board */
EMU_PRIV void firmware_reset(struct emu *e);                  /* before the CPU's first instruction */
EMU_PRIV void firmware_destroy(struct emu *e);
EMU_PRIV int loader_load(struct emu *e, struct err *err);     /* -kernel: Linux, multiboot, PVH; at every reset */

/* ================= configuration (front/options.c fills it, board.c and fw/ read it) ================= */
struct config_line { /* one -device, -drive, -netdev ... in the order given */
    struct options opts;
    struct config_line *next;
};
struct config {
    uint64_t ram_bytes;
    unsigned cpus;
    char *cpu_model; /* NAME,+f,-f */
    char *machine;   /* "pc" */
    char *kernel, *initrd, *append, *dtb, *bios, *name, *uuid;
    char boot_order[16]; /* letters c d a n; "" = default "cad" */
    bool boot_menu, boot_strict;
    unsigned boot_menu_timeout_ms;
    char *vga; /* std, none */
    struct config_line *drives, *devices, *smbios, *fw_cfg, *netdevs, *nics, *objects;
    char *serial[4];   /* chr_open spec; NULL = none */
    char *parallel[3];
    bool no_defaults, no_reboot, no_shutdown, start_paused, snapshot, no_acpi, no_hpet;
    bool icount;
    unsigned icount_shift; /* virtual ns per instruction = 1 << shift */
    bool icount_auto_sleep;
    int64_t rtc_base_s;    /* wall clock at start, seconds since 1970 */
    bool rtc_localtime, rtc_vm_clock, rtc_base_set;
    uint64_t seed;
    bool seed_set;
};

/* ================= the machine ================= */
struct emu {
    struct config config;

    /* embedder */
    void *(*alloc_fn)(void *opaque, void *p, size_t size); /* size 0: free; not zeroing */
    void (*log_fn)(void *opaque, unsigned mask, const char *text);
    void *hook_opaque;
    unsigned log_mask;
#ifdef EMU_TORTURE
    unsigned torture_alloc_countdown; /* 1: the next allocation fails; 0: none does */
#endif
    void *api;   /* front/api.c */
    void *front; /* front/: monitor, terminal, gdb stub */

    /* clock.c */
    struct timer **timer_heap;
    size_t timer_count, timer_capacity;
    uint64_t timer_order;
    int64_t clock_base_ns, clock_last_ns, clock_host_origin_ns;
    bool clock_frozen;
    int64_t icount_bias_ns; /* -icount: virtual time warped while idle */

    /* memory.c */
    struct map memory, ports;
    struct ram_block *blocks[64];
    unsigned block_count;
    struct ram_block *ram;
    uint64_t ram_below_4g;
    struct region ram_low, ram_high;
    uint64_t a20_mask; /* ~0, or ~(1 << 20) */
    /* the CPU's ears (cpu/): set when CPUs are created */
    void (*on_map_change)(struct emu *e);
    void (*on_code_write)(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size);

    /* CPUs */
    struct cpu **cpus;
    unsigned cpu_count;
    struct cpu *current_cpu;  /* the one whose instruction is running, or NULL */
    struct trace_cache *traces;
    struct decode_index *decode; /* cpu/decode.c */
    uint32_t last_generation; /* cpu/mem.c: of address mappings */
    uint64_t insn_total;      /* retired by all CPUs, up to the last CPU exit */
    uint64_t insn_at_entry;   /* current_cpu's count when it was entered */

    /* loop.c */
    volatile unsigned requests;
    enum run_state run_state;
    int exit_status;
    struct watch *watches;
    struct poll_hook *poll_hooks;
    struct host_poll_item *poll_items;
    struct watch **poll_watches;
    size_t poll_capacity, poll_count, watch_count;
    uint64_t insns_per_us;  /* measured */
    unsigned next_cpu, break_cpu;
    bool on_break_pending; /* the pause under way is a breakpoint's: on_break tells more */
    unsigned gdb_count;
    void (*on_run_state)(struct emu *e, enum run_state state);               /* front: gdb stub, QMP */
    void (*on_break)(struct emu *e, struct cpu *c, int why /* enum cpu_exit */); /* front: gdb stub; the machine is paused */
    int64_t next_poll_host_ns;
    int64_t poll_interval_ns;
    host_fd wake_read, wake_write;

    /* devices */
    struct device *devices;
    struct pci_bus *pci;
    struct irq gsi[24];
    struct display_source *display;
    struct input_sink *inputs;
    unsigned mouse_buttons; /* as the monitor last set them */
    void *chipset; /* board.c: pointers to pic, ioapic, lapics, rtc ... */
    struct lapic **lapics;
    struct fw_cfg *fw_cfg;
    void *firmware;

    /* backends */
    struct blk *drives;
    /* file=embed:NAME: the embedding program's disk of that name; front/api.c sets it */
    bool (*find_disk)(struct emu *e, const char *name, struct emu_disk_ops *ops, void **opaque);
    struct chr *chars;
    uint64_t serial_bytes; /* sent by the guest's UARTs */
    struct net_port *net_ports;
    struct net_nic *nics;
    unsigned nic_count;
    struct nat *nats;
};

#endif

/* ======================================== src/cpu/cpu.h ======================================== */

/* cpu/cpu.h - the x86-64 CPU: state, and every interface between the files of cpu/.
 *
 * Who does what (one direction of calls, down this list):
 *   run.c        cpu_run(): interrupts, budget, entry into traces
 *   trace.c      two tiers of traces: building, linking, invalidation          uop.h, handlers_*.c: the uop handlers
 *   decode.c     bytes -> struct insn by the rows of table.c (integer), system.c, x87.c, mmx.c, sse*.c, crypto.c
 *   system.c ... instructions that are plain C: insn_fn                        sse*.c: vec_fn
 *   exception.c  delivery of faults, traps, interrupts; segment.c, control.c: descriptors, gates, tasks, mode changes
 *   mem.c        loads and stores by linear address, TLB; paging.c: the walk
 *
 * Invariants 1. Outside of handlers (in every insn_fn, vec_fn, callback, at every exit) the register file below is complete:
 *               slots are spilled, rip and the instruction count are exact.
 *            2. A failing instruction changes nothing the guest can see, but what the manual says (REP progress, A/D bits).
 *            3. Derived state (mode, mode_key) changes in cpu_update_mode() only.
 */
#ifndef EMU_CPU_H
#define EMU_CPU_H

/* ---- features: CPUID bits, -cpu flags, and what rows need. ORDER cpu_feature ---- */
/*            id            -cpu name       leaf         subleaf reg(0 eax,1 ebx,2 ecx,3 edx) bit */
#define CPU_FEATURES(X)                                                                                                \
    X(FPU, "fpu", 1, 0, 3, 0) X(VME, "vme", 1, 0, 3, 1) X(DE, "de", 1, 0, 3, 2) X(PSE, "pse", 1, 0, 3, 3)              \
    X(TSC, "tsc", 1, 0, 3, 4) X(MSR, "msr", 1, 0, 3, 5) X(PAE, "pae", 1, 0, 3, 6) X(MCE, "mce", 1, 0, 3, 7)            \
    X(CX8, "cx8", 1, 0, 3, 8) X(APIC, "apic", 1, 0, 3, 9) X(SEP, "sep", 1, 0, 3, 11) X(MTRR, "mtrr", 1, 0, 3, 12)      \
    X(PGE, "pge", 1, 0, 3, 13) X(MCA, "mca", 1, 0, 3, 14) X(CMOV, "cmov", 1, 0, 3, 15) X(PAT, "pat", 1, 0, 3, 16)      \
    X(PSE36, "pse36", 1, 0, 3, 17) X(CLFLUSH, "clflush", 1, 0, 3, 19) X(MMX, "mmx", 1, 0, 3, 23)                       \
    X(FXSR, "fxsr", 1, 0, 3, 24) X(SSE, "sse", 1, 0, 3, 25) X(SSE2, "sse2", 1, 0, 3, 26) X(SS, "ss", 1, 0, 3, 27)      \
    X(SSE3, "sse3", 1, 0, 2, 0) X(PCLMULQDQ, "pclmulqdq", 1, 0, 2, 1) X(MONITOR, "monitor", 1, 0, 2, 3)                \
    X(SSSE3, "ssse3", 1, 0, 2, 9) X(FMA, "fma", 1, 0, 2, 12) X(CX16, "cx16", 1, 0, 2, 13) X(PCID, "pcid", 1, 0, 2, 17) \
    X(SSE41, "sse4.1", 1, 0, 2, 19) X(SSE42, "sse4.2", 1, 0, 2, 20) X(X2APIC, "x2apic", 1, 0, 2, 21)                   \
    X(MOVBE, "movbe", 1, 0, 2, 22) X(POPCNT, "popcnt", 1, 0, 2, 23) X(TSC_DEADLINE, "tsc-deadline", 1, 0, 2, 24)       \
    X(AES, "aes", 1, 0, 2, 25) X(XSAVE, "xsave", 1, 0, 2, 26) X(AVX, "avx", 1, 0, 2, 28) X(F16C, "f16c", 1, 0, 2, 29)  \
    X(RDRAND, "rdrand", 1, 0, 2, 30) X(HYPERVISOR, "hypervisor", 1, 0, 2, 31)                                         \
    X(FSGSBASE, "fsgsbase", 7, 0, 1, 0) X(TSC_ADJUST, "tsc_adjust", 7, 0, 1, 1) X(BMI1, "bmi1", 7, 0, 1, 3)            \
    X(AVX2, "avx2", 7, 0, 1, 5) X(SMEP, "smep", 7, 0, 1, 7) X(BMI2, "bmi2", 7, 0, 1, 8) X(ERMS, "erms", 7, 0, 1, 9)    \
    X(INVPCID, "invpcid", 7, 0, 1, 10) X(RDSEED, "rdseed", 7, 0, 1, 18) X(ADX, "adx", 7, 0, 1, 19)                     \
    X(SMAP, "smap", 7, 0, 1, 20) X(CLFLUSHOPT, "clflushopt", 7, 0, 1, 23) X(CLWB, "clwb", 7, 0, 1, 24)                 \
    X(SHA, "sha-ni", 7, 0, 1, 29) X(UMIP, "umip", 7, 0, 2, 2) X(PKU, "pku", 7, 0, 2, 3) X(LA57, "la57", 7, 0, 2, 16)   \
    X(RDPID, "rdpid", 7, 0, 2, 22) X(FSRM, "fsrm", 7, 0, 3, 4) X(ARCH_CAP, "arch-capabilities", 7, 0, 3, 29)           \
    X(SYSCALL, "syscall", 0x80000001, 0, 3, 11) X(NX, "nx", 0x80000001, 0, 3, 20)                                      \
    X(PDPE1GB, "pdpe1gb", 0x80000001, 0, 3, 26) X(RDTSCP, "rdtscp", 0x80000001, 0, 3, 27)                              \
    X(LM, "lm", 0x80000001, 0, 3, 29) X(LAHF_LM, "lahf-lm", 0x80000001, 0, 2, 0) X(ABM, "abm", 0x80000001, 0, 2, 5)    \
    X(PREFETCHW, "3dnowprefetch", 0x80000001, 0, 2, 8) X(INVTSC, "invtsc", 0x80000007, 0, 3, 8)                        \
    X(XSAVEOPT, "xsaveopt", 0xD, 1, 0, 0) X(XSAVEC, "xsavec", 0xD, 1, 0, 1) X(XGETBV1, "xgetbv1", 0xD, 1, 0, 2)
enum cpu_feature {
    CPU_ALWAYS, /* a row that needs nothing */
#define CPU_FEATURE_ID(id, name, leaf, sub, reg, bit) CPU_##id,
    CPU_FEATURES(CPU_FEATURE_ID)
#undef CPU_FEATURE_ID
    CPU_FEATURE_COUNT
};

/* ---- architectural constants (Intel SDM vol. 1 and 3) ---- */
enum {
    FLAG_CF = 1 << 0, FLAG_PF = 1 << 2, FLAG_AF = 1 << 4, FLAG_ZF = 1 << 6, FLAG_SF = 1 << 7, FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9, FLAG_DF = 1 << 10, FLAG_OF = 1 << 11, FLAG_IOPL = 3 << 12, FLAG_NT = 1 << 14, FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17, FLAG_AC = 1 << 18, FLAG_VIF = 1 << 19, FLAG_VIP = 1 << 20, FLAG_ID = 1 << 21,
    FLAGS_ARITH = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF /* "OSZAPC" */
};
enum { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
       REG_ZERO, /* reads as 0: absent base or index */
       REG_TEMP, REG_COUNT };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };
enum { EXC_DE = 0, EXC_DB = 1, EXC_NMI = 2, EXC_BP = 3, EXC_OF = 4, EXC_BR = 5, EXC_UD = 6, EXC_NM = 7, EXC_DF = 8, EXC_TS = 10, EXC_NP = 11,
       EXC_SS = 12, EXC_GP = 13, EXC_PF = 14, EXC_MF = 16, EXC_AC = 17, EXC_MC = 18, EXC_XM = 19 };
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 16, CR0_NE = 32, CR0_WP = 1 << 16, CR0_AM = 1 << 18, CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
#define CR0_PG UINT32_C(0x80000000)
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_MCE = 64, CR4_PGE = 128, CR4_PCE = 256, CR4_OSFXSR = 512,
       CR4_OSXMMEXCPT = 1024, CR4_UMIP = 1 << 11, CR4_LA57 = 1 << 12, CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18,
       CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, CR4_PKE = 1 << 22 };
enum { EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };

/* A 256-bit vector register. Element order is the guest's on every host through VB..VQ: the quadwords are in guest order, and
 * narrower elements are found inside a quadword by the host's byte order. */
union vec {
    uint8_t b[32];
    uint16_t w[16];
    uint32_t d[8];
    uint64_t q[4];
};
#if EMU_BIG_ENDIAN
#define VB(v, i) ((v)->b[(i) ^ 7])
#define VW(v, i) ((v)->w[(i) ^ 3])
#define VD(v, i) ((v)->d[(i) ^ 1])
#else
#define VB(v, i) ((v)->b[i])
#define VW(v, i) ((v)->w[i])
#define VD(v, i) ((v)->d[i])
#endif
#define VQ(v, i) ((v)->q[i])

struct seg {
    uint16_t selector;
    uint32_t attr; /* descriptor bits 40-55 at 0-15 (type, S, DPL, P at 0-7; AVL, L, D/B, G at 12-15), SEG_UNUSABLE */
    uint32_t limit; /* in bytes, granularity applied */
    uint64_t base;
};
enum { SEG_TYPE = 15, SEG_S = 1 << 4, SEG_DPL = 3 << 5, SEG_P = 1 << 7, SEG_L = 1 << 13, SEG_DB = 1 << 14, SEG_G = 1 << 15, SEG_UNUSABLE = 1 << 16,
       SEG_CODE = 8, SEG_WRITE_READ = 2, SEG_DOWN_CONFORM = 4, SEG_ACCESSED = 1 };
struct dtable {
    uint64_t base;
    uint32_t limit;
};

enum cpu_mode { MODE_REAL, MODE_V86, MODE_PROT, MODE_COMPAT, MODE_LONG };

/* Mode key: everything a trace was specialised on. ORDER mode_key (cpu_update_mode, trace builder) */
enum mode_key {
    KEY_CS16 = 0, KEY_CS32 = 1, KEY_CS64 = 2, KEY_CS_SIZE = 3,
    KEY_SS32 = 1 << 2,       /* stack pointer is ESP (RSP when KEY_CS64), else SP */
    KEY_USER = 1 << 3,       /* CPL 3 */
    KEY_KERNEL = 1 << 4,     /* CPL 0 */
    KEY_REAL = 1 << 5,       /* real or v86 mode segments */
    KEY_V86 = 1 << 6,
    KEY_FLAT_ES = 1 << 7, KEY_FLAT_CS = 1 << 8, KEY_FLAT_SS = 1 << 9, KEY_FLAT_DS = 1 << 10, /* base 0, limit 4 GiB, writable (CS: readable); all set in KEY_CS64 */
    KEY_PAGING = 1 << 11,
    KEY_SMAP = 1 << 12,      /* user pages are not for explicit data access now */
    KEY_AC = 1 << 13,        /* alignment checks are on */
    KEY_NO_X87 = 1 << 14,    /* CR0.EM or CR0.TS: x87/MMX instructions fault */
    KEY_NO_SSE = 1 << 15,    /* CR0.EM, !CR4.OSFXSR or CR0.TS: SSE instructions fault */
    KEY_NO_AVX = 1 << 16,    /* CR4.OSXSAVE or XCR0 does not allow VEX instructions, or CR0.TS */
    KEY_LONG = 1 << 17,      /* EFER.LMA */
    KEY_NO_IO = 1 << 18,     /* reserved */
    KEY_DEBUG = 1 << 19      /* breakpoints or watchpoints: instruction by instruction */
};

/* TLB, direct-mapped. Three sets, cpu->tlb_set is the one for explicit data accesses now: 0 supervisor, 1 user, 2 supervisor while
 * EFLAGS.AC overrides SMAP. Implicit system accesses (ACCESS_SYSTEM) use set 0. */
#define TLB_SETS 3
#if defined(EMU_TORTURE)
#define TLB_BITS 4
#else
#define TLB_BITS 11
#endif
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_NO_PAGE UINT64_MAX /* equals no (va & ~4095); a test by subtraction would take it for a page */
struct tlb_entry {
    uint64_t read_page, write_page; /* linear page address, or TLB_NO_PAGE: not allowed directly (slow path decides) */
    uintptr_t addend;               /* host address = linear address + addend */
    uint32_t generation;            /* valid where it equals cpu->tlb_generation or (global pages) cpu->global_generation */
};

enum cpu_fault_flag { FAULT_HAS_ERROR = 1, FAULT_SOFT_INT = 2, FAULT_ICEBP = 4, FAULT_EXTERNAL = 8, FAULT_INT_N = 16 /* INT imm8, as against INT3 and INTO */ };
struct fault {
    uint8_t vector, flags;
    uint32_t error;
    uint64_t cr2;
};

struct x87_reg {
    uint64_t mant;
    uint16_t exp; /* sign in bit 15 */
};

struct insn;
struct uop;
struct trace;

struct cpu {
    /* hot: the register file that uops address by byte offset (first 4 KiB) */
    uint64_t gpr[REG_COUNT];
    uint64_t flag_result, flag_source, flag_dest; /* lazy flags: see flags.c */
    uint32_t flag_kind;
    uint32_t generation;        /* of the linear -> host mapping in force, for uop page caches: changes with every invalidation (INVLPG and
                                   new code pages too); unique over the machine's CPUs. TLB entries: tlb_generation */
    uint64_t code_base;         /* linear address of the page that runs, minus CS base */
    uint64_t rip;               /* exact when spilled */
    uint64_t next_rip;          /* set for an insn_fn: address after the instruction; it may change it */
    uint32_t eflags;            /* everything but OSZAPC */
    uint32_t mode_key;
    uint64_t seg_base[8];       /* copy of seg[].base for address computation */
    union vec vtmp[2];          /* memory and GPR operands of vec_fn */
    union vec xmm[16];
    uint32_t mxcsr;
    uint32_t attention;         /* nonzero: leave at the next exit (interrupt, request, budget to be reloaded) */
    uint64_t icount;            /* retired instructions; exact when spilled */
    int64_t budget;             /* instructions until the traces are left; exits subtract. See run.c */
    int64_t budget_start;       /* of the running stretch; see run.c */
    uint64_t miss_va;           /* linear address of the access that missed its uop's page */
    union vec bounce[2];        /* a slow access on its way: handlers_flow.c */

    /* x87: physical registers; ST(i) = x87[(top + i) & 7]. MMX registers are their mant. */
    struct x87_reg x87[8];
    uint16_t x87_control, x87_status /* without TOP */, x87_opcode;
    uint8_t x87_top, x87_tags; /* tags: bit i set = physical register i is empty */
    uint64_t x87_ip, x87_dp;
    uint16_t x87_cs, x87_ds;

    /* system state */
    struct emu *emu;
    unsigned index; /* number of this CPU = initial APIC id */
    struct seg seg[SEG_COUNT];
    struct dtable gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[8];
    uint32_t pkru;
    uint8_t cpl;
    uint8_t mode; /* enum cpu_mode */
    uint8_t code_size; /* 2, 4, 8: default operand/address environment of CS */
    bool halted, waiting_sipi, shutdown; /* shutdown: triple fault */
    uint8_t interrupt_shadow; /* instructions left that block interrupts: STI, MOV SS */
    bool nmi_blocked;
    uint32_t pending; /* CPU_INT_* bits */
    uint8_t sipi_vector;
    struct fault fault;
    uint64_t star, lstar, cstar, fmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, tsc_aux, pat, misc_enable, apic_base;
    uint64_t mtrr[32]; /* def type, fixed, variable: kept, not acted upon */
    int64_t tsc_offset;
    uint64_t mcg_status, mcg_ctl, mc_bank[4][4]; /* machine check: CTL, STATUS, ADDR, MISC of each bank */
    uint64_t feature_control, debugctl;
    uint64_t monitor_gpa;
    bool monitor_armed;
    uint32_t features[(CPU_FEATURE_COUNT + 31) / 32];
    uint64_t pdpte[4]; /* PAE without long mode */
    uint8_t phys_bits;
    uint32_t signature;    /* CPUID.1.EAX */
    uint32_t basic_leaves; /* highest CPUID leaf, 0: by features */
    char vendor[13], brand[49];
    uint64_t rng_state[2];

    /* mem.c */
    uint32_t global_generation, tlb_generation; /* tags of TLB entries: global ones, and those of the present CR3/PCID */
    uint8_t tlb_set;
    uint32_t debug_hits; /* DR6 bits of data and I/O breakpoints that the present instruction met: after it the engine calls
                            cpu_debug_trap(c, debug_hits), which clears them. Only under KEY_DEBUG */
    bool watch_hit;      /* the present instruction touched a debugger watchpoint (mem_watch_set): leave with CPU_EXIT_WATCHPOINT */
    uint64_t watch_va;
    bool debugger_stops; /* set by run.c while the debugger has breakpoints: cpu_update_mode() then sets KEY_DEBUG */
    struct tlb_entry tlb[TLB_SETS][TLB_SIZE];
    void *mmu; /* mem.c's private state (per-PCID generations, statistics) */

    /* trace.c, run.c: private state of the engine */
    void *engine;
};

EMU_INLINE bool cpu_has(const struct cpu *c, enum cpu_feature f)
{
    return f == CPU_ALWAYS || ((c->features[f >> 5] >> (f & 31)) & 1);
}

/* Registers by width, whatever the host's byte order. cpu_gpr32 writes clear the upper half. 8-bit: r 4-7 are SPL.. or AH..: the
 * decoder resolves; here `high` says AH, CH, DH, BH of register r (0-3). */
#define CPU_REG_OFFSET(size) (EMU_BIG_ENDIAN ? 8 - (size) : 0)
EMU_INLINE uint8_t cpu_get8(const struct cpu *c, unsigned r, bool high) { return (uint8_t)(high ? c->gpr[r] >> 8 : c->gpr[r]); }
EMU_INLINE void cpu_put8(struct cpu *c, unsigned r, bool high, uint8_t v)
{
    c->gpr[r] = high ? (c->gpr[r] & ~UINT64_C(0xFF00)) | ((uint64_t)v << 8) : (c->gpr[r] & ~UINT64_C(0xFF)) | v;
}
EMU_INLINE void cpu_put16(struct cpu *c, unsigned r, uint16_t v) { c->gpr[r] = (c->gpr[r] & ~UINT64_C(0xFFFF)) | v; }
EMU_INLINE void cpu_put32(struct cpu *c, unsigned r, uint32_t v) { c->gpr[r] = v; }
/* Writes the low `size` bytes (2, 4, 8) of a register as an instruction of that operand size does. */
EMU_INLINE void cpu_put(struct cpu *c, unsigned r, uint64_t v, unsigned size)
{
    if (size == 2)
        cpu_put16(c, r, (uint16_t)v);
    else
        c->gpr[r] = size == 4 ? (uint32_t)v : v;
}
EMU_INLINE uint64_t cpu_get(const struct cpu *c, unsigned r, unsigned size)
{
    return size == 8 ? c->gpr[r] : size == 4 ? (uint32_t)c->gpr[r] : size == 2 ? (uint16_t)c->gpr[r] : (uint8_t)c->gpr[r];
}

/* ================= results of plain-C instructions ================= */
enum { CPU_OK = 0, CPU_FAULT = 1 }; /* CPU_FAULT: cpu->fault tells; the caller delivers it */
EMU_PRIV int cpu_raise(struct cpu *c, unsigned vector);                          /* returns CPU_FAULT */
EMU_PRIV int cpu_raise_error(struct cpu *c, unsigned vector, uint32_t error);    /* returns CPU_FAULT */
EMU_PRIV int cpu_raise_page_fault(struct cpu *c, uint64_t va, uint32_t error);   /* returns CPU_FAULT */

/* ================= decode.c: instructions and their table ================= */

/* Operand kinds, named as in Intel's opcode map (SDM 2D appendix A). ORDER operand (decode.c, disasm.c) */
enum operand {
    OPND_NONE,
    OPND_Eb, OPND_Ew, OPND_Ev, OPND_Ed, OPND_Ey, OPND_Eq,  /* ModRM r/m: GPR or memory; y: 32 or 64; q: 64 (push/pop/near branches) */
    OPND_Gb, OPND_Gw, OPND_Gv, OPND_Gd, OPND_Gy, OPND_Gq,  /* ModRM reg: GPR */
    OPND_Rd, OPND_Ry, OPND_Rv,                             /* ModRM rm, register only */
    OPND_M, OPND_Mb, OPND_Mw, OPND_Md, OPND_Mq, OPND_Mdq, OPND_Mv, OPND_My, OPND_Mp, OPND_Ms, OPND_Mt, /* memory only; M: address or own size; p: far pointer; s: pseudo-descriptor; t: 80-bit */
    OPND_Ib, OPND_Ibs, OPND_Iw, OPND_Iz, OPND_Iv,          /* immediates; Ibs: sign-extended to operand size; Iv: 64 with REX.W */
    OPND_Jb, OPND_Jz, OPND_Ap,                             /* branch displacement; far pointer in the instruction */
    OPND_Ob, OPND_Ov,                                      /* moffs */
    OPND_Zb, OPND_Zv, OPND_Zq,                             /* register in the opcode's low bits */
    OPND_AL, OPND_AX, OPND_eAX, OPND_CL, OPND_DX, OPND_1,  /* implied; eAX: by operand size */
    OPND_Sw, OPND_Cd, OPND_Dd,                             /* segment, control, debug register in ModRM reg */
    OPND_ES, OPND_CS, OPND_SS, OPND_DS, OPND_FS, OPND_GS,
    OPND_Xb, OPND_Xv, OPND_Yb, OPND_Yv,                    /* string source DS:SI, destination ES:DI */
    OPND_Vx,                                               /* ModRM reg: XMM */
    OPND_Wx, OPND_Wq, OPND_Wd, OPND_Ww, OPND_Wb,           /* XMM, or 16 (aligned unless ROW_UNALIGNED), 8, 4, 2, 1 bytes of memory */
    OPND_Ux,                                               /* ModRM rm: XMM only */
    OPND_Pq, OPND_Qq, OPND_Qd, OPND_Nq,                    /* MMX: reg; rm or memory 8/4 bytes; rm only */
    OPND_ST0, OPND_STi,                                    /* x87 */
    OPND_XMM0,
    OPND_Hx,                                               /* VEX.vvvv */
    OPND_Lx,                                               /* register in immediate bits 7:4 */
    OPND_COUNT
};

/* Encoding word of a row. */
#define ENC(op) ((uint32_t)(op))
#define ENC0F(op) (0x100u | (op))
#define ENC0F38(op) (0x200u | (op))
#define ENC0F3A(op) (0x300u | (op))
#define ENC_MAP(enc) (((enc) >> 8) & 3)
#define PFX_NP (1u << 10)      /* only without 66, F2, F3 */
#define PFX_66 (2u << 10)      /* mandatory prefixes */
#define PFX_F3 (3u << 10)
#define PFX_F2 (4u << 10)
#define PFX_MASK (7u << 10)    /* 0: any (66 = operand size) */
#define SLASH(n) ((uint32_t)((n) + 1) << 13)  /* ModRM.reg == n */
#define SLASH_MASK (15u << 13)
#define MOD_REG (1u << 17)     /* ModRM.mod == 3 */
#define MOD_MEM (2u << 17)     /* ModRM.mod != 3 */
#define MOD_MASK (3u << 17)
#define RM(n) (MOD_REG | (uint32_t)((n) + 1) << 19) /* ModRM.mod == 3 and rm == n */
#define RM_MASK (15u << 19)
#define MODE64 (1u << 23)      /* only in 64-bit mode */
#define NOT64 (2u << 23)       /* only outside */
#define MODE_MASK (3u << 23)
#define OPREG (1u << 25)       /* the row stands for 8 opcodes: op + register */
#define W0 (1u << 26)
#define W1 (2u << 26)
#define W_MASK (3u << 26)
#define HAS_MODRM (1u << 28)   /* implied by SLASH, MOD_, RM and operands that use ModRM; else to be said */
#define VEX128 (1u << 29)
#define VEX256 (2u << 29)
#define VEX_MASK (3u << 29)

enum row_attr {
    ROW_ENDS = 1,        /* the trace ends here: rip, mode or interrupt state may change */
    ROW_PRIV = 2,        /* #GP(0) unless CPL is 0 */
    ROW_X87 = 4,         /* #NM if CR0.EM or TS; WAIT-type #MF check is the function's */
    ROW_SSE = 8,         /* #UD if CR0.EM or !OSFXSR; #NM if TS */
    ROW_MMX = 16,        /* #UD if EM, #NM if TS, pending #MF; sets tags */
    ROW_LOCK = 32,       /* LOCK allowed with a memory destination */
    ROW_DEF64 = 64,      /* operand size is 64 in 64-bit mode (push, pop, ...) */
    ROW_FORCE64 = 128,   /* the same, and 66 is ignored (near branches) */
    ROW_UNALIGNED = 256, /* 16-byte memory operand need not be aligned */
    ROW_NO_RIP = 512,    /* the function does not care for rip: no need to set it (cannot fault) */
    ROW_REP = 1024,      /* string instruction: F2/F3 repeat */
    ROW_IGNORE_66 = 2048,
    ROW_WRITES_MEM = 4096
};
enum row_how {
    HOW_INT,  /* op: enum int_op (table.c, trace.c, handlers) */
    HOW_CALL, /* fn.call */
    HOW_VEC   /* fn.vec, perhaps with a handler of its own */
};
struct insn;
/* A plain-C instruction. cpu->rip and cpu->next_rip are set; it reads operands through insn_*() or directly. */
typedef int (*insn_fn)(struct cpu *c, const struct insn *i);
/* A vector operation d = a op b. Legacy SSE: a == d. Operand 0 is d, the last operand that is no immediate is b.
 * Memory operands: b is loaded (zero-extended) into cpu->vtmp[0]; where operand 0 is memory, d is vtmp[1] and its low bytes are stored after.
 * GPR sources are zero-extended into b->q[0]; GPR destinations take d->q[0] (vtmp[1]); MMX registers are copied to q[0] and back.
 * imm: the immediate byte. Upper half of YMM is kept by legacy SSE: write only the 128 bits that you mean to. */
typedef int (*vec_fn)(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm);

struct insn_row {
    uint32_t enc;
    const char *name;
    uint8_t opnd[4];
    uint8_t needs; /* enum cpu_feature */
    uint8_t how;
    uint16_t attr;
    uint16_t flags_read, flags_written; /* OSZAPC bits; HOW_CALL may simply say FLAGS_ARITH in both when it touches eflags */
    uint16_t op;
    insn_fn call;
    vec_fn vec;
    const void *handler; /* trace.c's handlers of this vec_fn (struct vec_handlers), or NULL: generic */
};
#define ROW_CALL(enc, name, o1, o2, o3, needs, attr, fr, fw, fn) { enc, name, { o1, o2, o3, 0 }, needs, HOW_CALL, attr, fr, fw, 0, fn, NULL, NULL }
#define ROW_VEC(enc, name, o1, o2, o3, needs, attr, fw, fn) { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, 0, NULL, vec_##fn, NULL }
#define VEC_FN(fn) static int vec_##fn(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm)
/* Tables: each ends with a row whose name is NULL. decode.c indexes them when the machine is created. */
EMU_PRIV const struct insn_row *cpu_rows_int(void);    /* table.c */
EMU_PRIV const struct insn_row *cpu_rows_system(void); /* system.c */
EMU_PRIV const struct insn_row *cpu_rows_x87(void);    /* x87.c */
EMU_PRIV const struct insn_row *cpu_rows_mmx(void);
EMU_PRIV const struct insn_row *cpu_rows_sse(void);
EMU_PRIV const struct insn_row *cpu_rows_sse4(void);
EMU_PRIV const struct insn_row *cpu_rows_crypto(void);

struct insn { /* a decoded instruction */
    const struct insn_row *row;
    uint8_t bytes[16];
    uint8_t length;
    uint8_t opsize, addrsize;   /* 2, 4, 8 */
    uint8_t prefixes;           /* INSN_* */
    uint8_t rex;                /* 0 or 0x40-0x4F */
    uint8_t vex;                /* 0, or length in bytes 16/32 */
    uint8_t vvvv;
    uint8_t opcode;             /* last opcode byte */
    uint8_t modrm;
    bool has_modrm, memory;     /* memory: mod != 3 (or moffs) */
    uint8_t reg;                /* ModRM.reg with REX.R (or opcode register with REX.B for Z operands: in rm) */
    uint8_t rm;                 /* ModRM.rm with REX.B, register form */
    uint8_t seg;                /* effective segment of the memory operand (SEG_*) */
    uint8_t base, index, scale; /* REG_*; REG_ZERO where absent; scale 0-3 */
    bool rip_relative;          /* base is next_rip */
    int64_t disp;
    uint64_t imm;               /* sign-extended where the operand kind says so */
    uint16_t imm2;              /* far pointer selector, ENTER's second */
    uint16_t page_offset;
};
enum { INSN_LOCK = 1, INSN_REPNE = 2, INSN_REP = 4, INSN_OPSIZE = 8, INSN_ADDRSIZE = 16, INSN_SEG = 32 };
/* Decodes up to size bytes. 0, or EXC_UD / EXC_GP (over 15 bytes), or -1: more bytes are needed. */
EMU_PRIV int cpu_decode(const struct cpu *c, uint32_t mode_key, const uint8_t *bytes, unsigned size, struct insn *out);
EMU_PRIV void cpu_disassemble(const struct insn *i, uint64_t rip, char *buf, size_t size);
EMU_PRIV int cpu_decode_create(struct emu *e); /* builds the index */
EMU_PRIV void cpu_decode_destroy(struct emu *e);

/* Operands for insn_fn. Address: offset in its segment, wrapped to the address size. */
EMU_PRIV uint64_t insn_address(struct cpu *c, const struct insn *i);
EMU_PRIV int insn_load_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t *value);  /* r/m operand of that size (1, 2, 4, 8) */
EMU_PRIV int insn_store_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t value);

/* ================= flags.c ================= */
/* Lazy flags: group | log2 of the size in bytes; theory at the head of flags.c. ORDER flag_kind (flags.c, handlers, trace.c) */
enum flag_kind { FLAGK_BITS = 0, FLAGK_ADD = 4, FLAGK_SUB = 8, FLAGK_LOGIC = 12, FLAGK_INC = 16, FLAGK_DEC = 20, FLAGK_RESULT = 24, FLAGK_END = 28 };
EMU_PRIV unsigned cpu_flag_carry(const struct cpu *c);               /* CF as 0 or 1 */
EMU_PRIV bool cpu_condition(const struct cpu *c, unsigned cc);       /* condition code 0-15 of Jcc */
EMU_PRIV uint32_t cpu_arith_flags(const struct cpu *c);             /* OSZAPC now */
EMU_PRIV void cpu_set_arith_flags(struct cpu *c, uint32_t flags);   /* all six */
EMU_PRIV uint32_t cpu_eflags(const struct cpu *c);                  /* whole register, bit 1 set */
EMU_PRIV void cpu_set_eflags(struct cpu *c, uint32_t value);        /* whole register, no checks; calls cpu_update_mode if VM or AC changed */

/* ================= mem.c: loads and stores ================= */
enum access { ACCESS_READ = 0, ACCESS_WRITE = 1, ACCESS_EXEC = 2, ACCESS_RMW = 3, /* write; reads too */
              ACCESS_SYSTEM = 4 /* or: implicit supervisor access (descriptor tables, TSS): CPL does not count */ };
/* By segment and offset (offset already cut to the address size): segment checks, canonical form, paging, I/O, crossing pages.
 * A store that crosses pages checks both before it changes any. */
EMU_PRIV int cpu_load(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t *value);
EMU_PRIV int cpu_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t value);
EMU_PRIV int cpu_load_bytes(struct cpu *c, unsigned seg, uint64_t offset, void *buf, unsigned size);
EMU_PRIV int cpu_store_bytes(struct cpu *c, unsigned seg, uint64_t offset, const void *buf, unsigned size);
EMU_PRIV int cpu_check_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size); /* would a store fault? (no change) */
/* By linear address. */
EMU_PRIV int cpu_load_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t *value, unsigned access);
EMU_PRIV int cpu_store_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t value, unsigned access);
EMU_PRIV int cpu_copy_linear(struct cpu *c, uint64_t va, void *buf, unsigned size, unsigned access); /* direction by access */
/* Segment part alone: linear address of [offset, offset+size), or #GP/#SS. */
EMU_PRIV int cpu_linear(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, unsigned access, uint64_t *va);
/* Host pointer for a plain access of size bytes at va by the current CPL, after filling the TLB; NULL: crossing, I/O, watched, code page (writes) or fault:
 * take the functions above. span (may be NULL): bytes from va to the page's end. */
EMU_PRIV uint8_t *tlb_host(struct cpu *c, uint64_t va, unsigned size, unsigned access);
/* Code: backing of the page at va for execution by the present CPL. 0 or CPU_FAULT. */
EMU_PRIV int cpu_code_page(struct cpu *c, uint64_t va, struct phys_page *out, uint64_t *gpa);
EMU_PRIV void tlb_flush_all(struct cpu *c);      /* new generation, global pages too */
EMU_PRIV void tlb_flush_nonglobal(struct cpu *c);
EMU_PRIV void tlb_flush_page(struct cpu *c, uint64_t va);
EMU_PRIV void tlb_flush_pcid(struct cpu *c, unsigned pcid);
EMU_PRIV void tlb_set_cr3(struct cpu *c, uint64_t cr3, bool keep); /* PCID: keep = bit 63 was set */
EMU_PRIV void tlb_machine_changed(struct emu *e); /* memory map, page flags: every CPU takes a new generation */
/* The page got PAGE_HAS_CODE, _TRACKED or _WATCHED: no CPU may store into it directly any more. Cheaper than tlb_machine_changed(). */
EMU_PRIV void tlb_protect_page(struct emu *e, struct ram_block *block, uint64_t block_offset);
/* Watchpoint of the debugger on linear addresses of every CPU (kind as in struct breakpoint: 1 write, 2 read, 3 both). */
EMU_PRIV int mem_watch_set(struct emu *e, uint64_t va, uint64_t size, unsigned kind, bool on);
EMU_INLINE bool cpu_canonical(const struct cpu *c, uint64_t va)
{
    unsigned bits = c->cr4 & CR4_LA57 ? 57 : 48;
    return (uint64_t)sext64(va, bits) == va;
}
EMU_PRIV uint32_t cpu_new_generation(struct emu *e);
EMU_PRIV int mem_mmu_create(struct cpu *c);
EMU_PRIV void mem_mmu_destroy(struct cpu *c);
/* For debugger and monitor: linear -> physical without side effects; false: not mapped. */
EMU_PRIV bool cpu_debug_translate(struct cpu *c, uint64_t va, uint64_t *gpa);
EMU_PRIV bool cpu_debug_read(struct cpu *c, uint64_t va, void *buf, size_t size);
EMU_PRIV bool cpu_debug_write(struct cpu *c, uint64_t va, const void *buf, size_t size);

/* ================= paging.c ================= */
struct walk {
    uint64_t gpa;      /* of va itself */
    uint64_t page_size;
    bool writable, user, executable, global, dirty; /* effective rights of the mapping; dirty: D is set (may be cached for writing) */
    uint8_t pkey;
};
/* Walks the tables for one access by CPL (or supervisor), sets A/D bits, checks all rights. 0 or CPU_FAULT with #PF filled in. */
EMU_PRIV int mmu_walk(struct cpu *c, uint64_t va, unsigned access, struct walk *out);
EMU_PRIV int mmu_load_pdptes(struct cpu *c, uint64_t cr3); /* PAE outside long mode; 0 or CPU_FAULT with #GP(0), nothing changed */

/* ================= exception.c, segment.c, control.c, system.c, cpuid.c ================= */
/* Delivers cpu->fault at cpu->rip (faults) or cpu->next_rip (soft interrupts, traps), nested faults included, up to triple fault (cpu->shutdown). */
EMU_PRIV void cpu_deliver_fault(struct cpu *c);
EMU_PRIV void cpu_deliver_interrupt(struct cpu *c, unsigned vector); /* external or NMI, at cpu->rip */
EMU_PRIV int cpu_software_interrupt(struct cpu *c, unsigned vector, unsigned flags); /* INT n, INT3, INTO: as an insn_fn body */
EMU_PRIV void cpu_debug_trap(struct cpu *c, uint64_t dr6_bits); /* single step, data breakpoints: after the instruction, at cpu->rip */
/* Instruction breakpoints in DR0-3, before the instruction at linear va: CPU_FAULT with #DB in cpu->fault (deliver it), unless RF.
 * The engine clears EFLAGS.RF after each instruction that it runs under KEY_DEBUG. */
EMU_PRIV int cpu_check_exec_breakpoint(struct cpu *c, uint64_t va);
EMU_PRIV void cpu_check_io_breakpoint(struct cpu *c, uint16_t port, unsigned size); /* sets debug_hits */
EMU_PRIV int cpu_load_segment(struct cpu *c, unsigned seg, uint16_t selector); /* MOV/POP/LDS.. to ES, SS, DS, FS, GS */
EMU_PRIV void cpu_set_segment_real(struct cpu *c, unsigned seg, uint16_t selector);
EMU_PRIV int cpu_far_transfer(struct cpu *c, uint16_t selector, uint64_t offset, unsigned opsize, bool call); /* JMP/CALL far */
EMU_PRIV int cpu_far_return(struct cpu *c, unsigned opsize, unsigned release); /* RETF imm16 */
EMU_PRIV int cpu_iret(struct cpu *c, unsigned opsize);
EMU_PRIV int cpu_syscall(struct cpu *c);
EMU_PRIV int cpu_sysret(struct cpu *c, unsigned opsize);
EMU_PRIV int cpu_sysenter(struct cpu *c);
EMU_PRIV int cpu_sysexit(struct cpu *c, unsigned opsize);
EMU_PRIV int cpu_push(struct cpu *c, uint64_t value, unsigned size);
EMU_PRIV int cpu_pop(struct cpu *c, uint64_t *value, unsigned size); /* changes RSP */
EMU_PRIV void cpu_update_mode(struct cpu *c); /* mode, code_size, mode_key, seg_base[], cpl-dependent state */
EMU_PRIV int cpu_check_io(struct cpu *c, uint16_t port, unsigned size); /* IOPL and the TSS's bitmap; 0 or CPU_FAULT */
EMU_PRIV uint64_t cpu_tsc(struct cpu *c);
EMU_PRIV uint64_t cpu_tsc_hz(void);
EMU_PRIV int64_t cpu_tsc_to_ns(struct cpu *c, uint64_t tsc); /* virtual time at which the TSC has that value */
EMU_PRIV void cpu_cpuid(struct cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
EMU_PRIV int cpu_set_model(struct cpu *c, const char *model, struct err *err); /* -cpu NAME,+f,-f */
EMU_PRIV void cpu_print_models(struct buf *out);
EMU_PRIV void cpu_reset(struct cpu *c, bool init); /* init: INIT signal (x87/SSE, MTRRs kept) */
/* Firmware and loaders: puts the CPU into a state to start from. */
struct cpu_boot {
    enum { CPU_BOOT_REAL, CPU_BOOT_PROT32, CPU_BOOT_LONG64 } kind;
    uint16_t cs, ds, es, ss; /* REAL: paragraphs */
    uint64_t rip, gpr[16], cr3;
    uint64_t gdt_base; /* PROT32/LONG64: where a flat GDT lies that the loader wrote; selectors in cs, ds, ... */
    uint32_t gdt_limit;
};
EMU_PRIV void cpu_load_boot_state(struct cpu *c, const struct cpu_boot *b);
EMU_PRIV void cpu_print_registers(struct cpu *c, struct buf *out); /* info registers, -d cpu */

/* ================= softfloat.c, x87.c, sse ================= */
EMU_PRIV void x87_reset(struct cpu *c, bool power_on);
EMU_PRIV int x87_check_pending(struct cpu *c); /* #MF or FERR# if an unmasked exception waits */
/* FXSAVE image layout (512 bytes) of x87, MMX and SSE state. */
EMU_PRIV void x87_pack_fxsave(struct cpu *c, uint8_t image[512], bool long_form);
EMU_PRIV void x87_unpack_fxsave(struct cpu *c, const uint8_t image[512], bool long_form);
EMU_PRIV uint16_t x87_tag_word(const struct cpu *c); /* two bits a register, for FSTENV and the debugger */

/* ================= run.c, trace.c ================= */
enum cpu_int { /* bits of cpu->pending */
    CPU_INT_INTR = 1, /* level: apic_acknowledge() has a vector */
    CPU_INT_NMI = 2, CPU_INT_INIT = 4, CPU_INT_SIPI = 8, CPU_INT_SMI = 16
};
enum cpu_attention { /* bits of cpu->attention: why the engine is to leave at the next exit */
    CPU_ATTENTION_INT = 1,    /* pending changed */
    CPU_ATTENTION_TIMER = 2,  /* an event was armed earlier than the running budget reaches: CPU_EXIT_BUDGET at once */
    CPU_ATTENTION_REQUEST = 4 /* emu->requests */
};
EMU_PRIV void cpu_set_interrupt(struct cpu *c, unsigned kind, bool on);
EMU_PRIV void cpu_send_sipi(struct cpu *c, uint8_t vector);
enum cpu_exit { CPU_EXIT_BUDGET, CPU_EXIT_HALTED, CPU_EXIT_SHUTDOWN, CPU_EXIT_REQUEST, CPU_EXIT_BREAKPOINT, CPU_EXIT_WATCHPOINT };
/* Runs up to `budget` instructions, exactly: stops early only for the reasons above. */
EMU_PRIV enum cpu_exit cpu_run(struct cpu *c, int64_t budget);
EMU_PRIV enum cpu_exit cpu_step(struct cpu *c); /* one instruction, no trace, breakpoints ignored */
EMU_PRIV uint64_t cpu_insn_count(struct cpu *c); /* retired so far; exact even inside a callback */
EMU_PRIV bool cpu_can_run(const struct cpu *c);  /* not halted (or woken), not waiting for SIPI */
EMU_PRIV int cpu_create(struct emu *e, unsigned index, struct cpu **out, struct err *err);
EMU_PRIV void cpu_destroy(struct cpu *c);
EMU_PRIV int trace_cache_create(struct emu *e);
EMU_PRIV void trace_cache_destroy(struct emu *e);
EMU_PRIV void trace_code_written(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size);
EMU_PRIV void trace_flush_all(struct emu *e);
struct trace_stats { uint64_t insns_tier1, insns_tier2, traces_built, insns_built, invalidations, slow_path, build_ns; };
EMU_PRIV void trace_get_stats(struct emu *e, struct trace_stats *out);
/* Breakpoints of the debugger: linear addresses; data: kind bits 1 write, 2 read. */
struct breakpoint {
    uint64_t va, size;
    uint8_t kind; /* 0 execute, 1 write, 2 read, 3 both */
};
EMU_PRIV int cpu_breakpoint_set(struct emu *e, const struct breakpoint *b, bool on);

#endif

/* ======================================== src/cpu/uop.h ======================================== */

/* cpu/uop.h - the uop, and the macros that handlers are made of.
 *
 * Contract   Included by the files that define handlers (handlers_*.c, sse*.c) and by the trace builder.
 * Theory     A handler executes one uop and goes to the next in tail position (CPU.md): UOP_FN(name) { ...; UOP_NEXT; }. Registers that
 *            live in host registers between handlers are "slots", the handlers' last arguments. An operand is of a kind: 0..3 is that
 *            slot, R is a cell of the register file at a byte offset from struct cpu (u->a, u->b, u->x). GET(kind, field) reads all
 *            64 bits, PUT(kind, field, value) writes them. Where a compiler gives no tail calls the slots are none and a handler
 *            returns the next uop to a plain loop.
 * Invariants 1. A handler changes nothing the guest can see before its last fault exit (UOP_MISS, UOP_FAULT).
 *            2. A memory uop takes two units: struct uop and struct uop_page.
 *            3. Nothing in a handler takes the address of a local: that would kill the tail call.
 */
#ifndef EMU_UOP_H
#define EMU_UOP_H


/* What a HOW_INT row does: the trace builder chooses handlers by it. ORDER int_op (table.c, interp.c, trace.c) */
enum int_op {
    OP_ADD, OP_OR, OP_ADC, OP_SBB, OP_AND, OP_SUB, OP_XOR, OP_CMP, /* ModRM.reg of group 1 */
    OP_ROL, OP_ROR, OP_RCL, OP_RCR, OP_SHL, OP_SHR, OP_SAL, OP_SAR, /* of group 2 */
    OP_TEST, OP_MOV, OP_MOVZX, OP_MOVSX, OP_LEA, OP_XCHG, OP_INC, OP_DEC, OP_NEG, OP_NOT, OP_MUL, OP_IMUL1, OP_DIV, OP_IDIV, OP_IMUL,
    OP_SHLD, OP_SHRD, OP_BT, OP_BTS, OP_BTR, OP_BTC, OP_BSF, OP_BSR, OP_TZCNT, OP_LZCNT, OP_POPCNT, OP_BSWAP, OP_MOVBE, OP_ADCX, OP_ADOX,
    OP_SETCC, OP_CMOV, OP_JCC, OP_LOOP, OP_JMP, OP_JMP_RM, OP_CALL, OP_CALL_RM, OP_RET, OP_PUSH, OP_POP, OP_LEAVE, OP_CBW, OP_CWD,
    OP_NOP, OP_FLAGS, OP_XADD, OP_CMPXCHG, OP_CMPXCHG8B, OP_STRING
};
/* interp.c, string.c: the same instructions as plain C */
EMU_PRIV int interp_alu(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_unary(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_shift(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_shift_double(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_mov(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_movsx(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_lea(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_xchg(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cmov(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_setcc(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_bswap(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_movbe(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cbw(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cwd(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_nop(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_lahf(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_sahf(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_carry(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_direction(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_mul(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_imul(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_div(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_bit_test(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_bit_scan(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_adx(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_xadd(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cmpxchg(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cmpxchg8b(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_jcc(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_loop(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_jmp(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_jmp_rm(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_call(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_call_rm(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_ret(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_push(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_pop(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_leave(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_go(struct cpu *c, uint64_t target, unsigned opsize);
EMU_PRIV uint64_t interp_shift_value(unsigned op, unsigned size, uint64_t d, unsigned n, unsigned carry_in, uint32_t *cfof);
EMU_PRIV bool interp_divide(unsigned size, bool is_signed, uint64_t hi, uint64_t lo, uint64_t s, uint64_t *q, uint64_t *r);
EMU_PRIV int string_run(struct cpu *c, const struct insn *i); /* MOVS CMPS STOS LODS SCAS INS OUTS with their prefixes */

/* EMU_TAIL_CALLS and EMU_MUSTTAIL come from base.h. */
#ifndef EMU_SLOTS
#if EMU_TAIL_CALLS && (defined(__x86_64__) && !defined(_WIN32) && !defined(__ILP32__) || defined(__aarch64__))
#define EMU_SLOTS 3
#else
#define EMU_SLOTS 0
#endif
#endif

#if EMU_SLOTS == 0
#define UOP_PARAMS struct cpu *c, struct uop *u
#define UOP_ARGS(next) c, (next)
#elif EMU_SLOTS == 3
#define UOP_PARAMS struct cpu *c, struct uop *u, uint64_t s0, uint64_t s1, uint64_t s2
#define UOP_ARGS(next) c, (next), s0, s1, s2
#else
#define UOP_PARAMS struct cpu *c, struct uop *u, uint64_t s0, uint64_t s1, uint64_t s2, uint64_t s3
#define UOP_ARGS(next) c, (next), s0, s1, s2, s3
#endif

struct uop;
typedef struct uop *(*uop_fn)(UOP_PARAMS);

struct uop {
    uop_fn fn;
    uint16_t a, b, x;    /* byte offsets into struct cpu: destination (or only operand), source (or base), index */
    uint16_t pos;        /* offset in its page of the instruction it belongs to */
    int32_t disp;        /* displacement, small immediate; trace heads and exits: see trace.c */
    uint8_t insn;        /* index of its instruction in the trace: instructions retired before it */
    uint8_t count;       /* exits: instructions retired when it leaves */
    uint8_t scale;       /* index shift; vectors: alignment mask of the memory operand */
    uint8_t misc;        /* immediate byte of vectors, condition ... */
    union {
        uint64_t imm;
        struct uop *link; /* exits: where they lead */
        const void *ptr;
    } v;
};
/* Second unit of a memory uop: its private one-page translation. Hit: same page, same generation, not over the page's end. */
struct uop_page {
    uint64_t page;       /* linear */
    uintptr_t addend;    /* host address = linear address + addend */
    uint32_t generation;
    uint8_t seg;         /* SEG_SS: a non-canonical address is #SS */
    uint8_t misses;
    uint16_t spare;
    union {
        uint64_t imm;
        struct uop *link;
    } v;
};
EMU_STATIC_ASSERT(sizeof(struct uop_page) <= sizeof(struct uop), uop_page_fits);
#define UOP_PAGE(u) ((struct uop_page *)(void *)((u) + 1))

#define UOP_FN(name) static EMU_TAIL_ATTR struct uop *name(UOP_PARAMS)
#define UOP_FN_PRIV(name) EMU_PRIV EMU_TAIL_ATTR struct uop *name(UOP_PARAMS)
#if EMU_TAIL_CALLS
#define UOP_GO(next)                                                                                                   \
    do {                                                                                                               \
        struct uop *uop_next_ = (next);                                                                                \
        EMU_MUSTTAIL return uop_next_->fn(UOP_ARGS(uop_next_));                                                        \
    } while (0)
#define UOP_TAIL(handler) EMU_MUSTTAIL return handler(UOP_ARGS(u)) /* the same uop, another handler */
#else
#define UOP_GO(next) return (next)
#define UOP_TAIL(handler) return handler(UOP_ARGS(u))
#endif
#define UOP_NEXT UOP_GO(u + 1)
#define UOP_NEXT_MEM UOP_GO(u + 2)

/* Cells of the register file. */
#define UOP_CELL(off) (*(uint64_t *)(void *)((char *)c + (off)))
#define UOP_XMM(off) ((union vec *)(void *)((char *)c + (off)))
#define UOP_GPR(r) ((uint16_t)(offsetof(struct cpu, gpr) + 8u * (r)))
#define GET_0(f) s0
#define GET_1(f) s1
#define GET_2(f) s2
#define GET_3(f) s3
#define GET_R(f) UOP_CELL(u->f)
#define GET(k, f) GET_##k(f)
#define PUT_0(f, v) (s0 = (v))
#define PUT_1(f, v) (s1 = (v))
#define PUT_2(f, v) (s2 = (v))
#define PUT_3(f, v) (s3 = (v))
#define PUT_R(f, v) (UOP_CELL(u->f) = (v))
#define PUT(k, f, v) PUT_##k(f, v)

/* Guest registers that are slots, in order. ORDER slot (UOP_SPILL, UOP_RELOAD, uop_slot_of) */
enum { SLOT_REG0 = REG_RAX, SLOT_REG1 = REG_RDX, SLOT_REG2 = REG_RCX, SLOT_REG3 = REG_RDI };
#if EMU_SLOTS == 0
#define UOP_SPILL ((void)0)
#define UOP_RELOAD ((void)0)
#elif EMU_SLOTS == 3
#define UOP_SPILL (c->gpr[SLOT_REG0] = s0, c->gpr[SLOT_REG1] = s1, c->gpr[SLOT_REG2] = s2)
#define UOP_RELOAD (s0 = c->gpr[SLOT_REG0], s1 = c->gpr[SLOT_REG1], s2 = c->gpr[SLOT_REG2])
#else
#define UOP_SPILL (c->gpr[SLOT_REG0] = s0, c->gpr[SLOT_REG1] = s1, c->gpr[SLOT_REG2] = s2, c->gpr[SLOT_REG3] = s3)
#define UOP_RELOAD (s0 = c->gpr[SLOT_REG0], s1 = c->gpr[SLOT_REG1], s2 = c->gpr[SLOT_REG2], s3 = c->gpr[SLOT_REG3])
#endif

/* EACH_KIND(M, ...): M(kind, ...) for every operand kind; EACH_KIND2: M(kind2, kind1, ...); EACH_KIND3: M(kind3, kind2, kind1, ...). */
#if EMU_SLOTS == 0
#define UOP_KINDS 1
#define EACH_KIND_A(M, ...) M(R, __VA_ARGS__)
#define EACH_KIND_B(M, ...) M(R, __VA_ARGS__)
#define EACH_KIND_C(M, ...) M(R, __VA_ARGS__)
#elif EMU_SLOTS == 3
#define UOP_KINDS 4
#define EACH_KIND_A(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_B(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_C(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(R, __VA_ARGS__)
#else
#define UOP_KINDS 5
#define EACH_KIND_A(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_B(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_C(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(R, __VA_ARGS__)
#endif
#define EACH_KIND(M, ...) EACH_KIND_A(M, __VA_ARGS__)
#define EACH_KIND2_ROW(k, M, ...) EACH_KIND_B(M, k, __VA_ARGS__)
#define EACH_KIND2(M, ...) EACH_KIND_A(EACH_KIND2_ROW, M, __VA_ARGS__)
#define EACH_KIND3_ROW2(k2, k1, M, ...) EACH_KIND_C(M, k2, k1, __VA_ARGS__)
#define EACH_KIND3_ROW(k1, M, ...) EACH_KIND_B(EACH_KIND3_ROW2, k1, M, __VA_ARGS__)
#define EACH_KIND3(M, ...) EACH_KIND_A(EACH_KIND3_ROW, M, __VA_ARGS__)

/* Common exits, in handlers_flow.c. The miss handlers find the linear address in c->miss_va and either fill u's page and run u again,
 * or carry the access out the slow way. */
UOP_FN_PRIV(uop_fault); /* cpu->fault is set: deliver it for u's instruction */
UOP_FN_PRIV(uop_miss_r1);
UOP_FN_PRIV(uop_miss_r2);
UOP_FN_PRIV(uop_miss_r4);
UOP_FN_PRIV(uop_miss_r8);
UOP_FN_PRIV(uop_miss_r16);
UOP_FN_PRIV(uop_miss_w1);
UOP_FN_PRIV(uop_miss_w2);
UOP_FN_PRIV(uop_miss_w4);
UOP_FN_PRIV(uop_miss_w8);
UOP_FN_PRIV(uop_miss_w16);
UOP_FN_PRIV(uop_miss_m1); /* read-modify-write */
UOP_FN_PRIV(uop_miss_m2);
UOP_FN_PRIV(uop_miss_m4);
UOP_FN_PRIV(uop_miss_m8);
UOP_FN_PRIV(uop_misaligned); /* #GP(0) of a 16-byte operand */

#define UOP_MISSES(va, size)                                                                                           \
    EMU_UNLIKELY((((va) - UOP_PAGE(u)->page) | ((uint64_t)(UOP_PAGE(u)->generation ^ c->generation) << 12)) > 4096u - (size))
/* Host pointer to `size` bytes at va; leaves the handler where they are not in the uop's page. rw: r, w or m. */
#define UOP_HOST(p, va, rw, size)                                                                                      \
    do {                                                                                                               \
        if (UOP_MISSES(va, size)) {                                                                                    \
            c->miss_va = (va);                                                                                         \
            UOP_TAIL(uop_miss_##rw##size);                                                                             \
        }                                                                                                              \
        (p) = (uint8_t *)(uintptr_t)((uintptr_t)(va) + UOP_PAGE(u)->addend);                                           \
    } while (0)

/* ---- vector operations: VEC_FN(name) { ... } VEC_HANDLERS(name, bytes) gives name's register form and the form whose last operand is
 * `bytes` (4, 8, 16) of memory; in the row: ROW_VEC_H(...) instead of ROW_VEC(...). Inside, u->a is d, u->x is a, u->b is b or the base
 * register, u->misc the immediate, u->scale the alignment mask. ---- */
struct vec_handlers {
    uop_fn rr, rm;
    unsigned bytes;
};
#define VEC_LOAD_4(p) (c->vtmp[0].q[0] = ld32le(p), c->vtmp[0].q[1] = 0)
#define VEC_LOAD_8(p) (c->vtmp[0].q[0] = ld64le(p), c->vtmp[0].q[1] = 0)
#define VEC_LOAD_16(p) (c->vtmp[0].q[0] = ld64le(p), c->vtmp[0].q[1] = ld64le((p) + 8))
#define VEC_HANDLERS(name, size)                                                                                       \
    UOP_FN(vech_rr_##name)                                                                                             \
    {                                                                                                                  \
        if (vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), UOP_XMM(u->b), u->misc))                                       \
            UOP_TAIL(uop_fault);                                                                                       \
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
        if (vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), &c->vtmp[0], u->misc))                                         \
            UOP_TAIL(uop_fault);                                                                                       \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    static const struct vec_handlers vech_##name = { vech_rr_##name, vech_rm_##name, size };
#define ROW_VEC_H(enc, name, o1, o2, o3, needs, attr, fw, fn)                                                          \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, 0, NULL, vec_##fn, &vech_##fn }
/* A plain store: the low bytes of operand 1 go to operand 0 (memory form), or d = b by fn (register form). */
enum vec_op { VEC_OP_NONE, VEC_OP_STORE };
#define ROW_VEC_STORE(enc, name, o1, o2, o3, needs, attr, fw, fn)                                                      \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, VEC_OP_STORE, NULL, vec_##fn, NULL }

#endif

/* ======================================== src/cpu/desc.h ======================================== */

/* cpu/desc.h - what segment.c, exception.c, control.c and system.c share: descriptors, stacks under construction, task switches.
 *
 * Contract   Private to those four files. Every function that returns int gives CPU_OK or CPU_FAULT with cpu->fault filled in.
 */
#ifndef EMU_CPU_DESC_H
#define EMU_CPU_DESC_H

enum { /* types of system descriptors (SDM 3A table 3-2) */
    DESC_TSS16 = 1, DESC_LDT = 2, DESC_TSS16_BUSY = 3, DESC_CALL16 = 4, DESC_TASK_GATE = 5, DESC_INT16 = 6, DESC_TRAP16 = 7,
    DESC_TSS32 = 9, DESC_TSS32_BUSY = 11, DESC_CALL32 = 12, DESC_INT32 = 14, DESC_TRAP32 = 15
};
struct desc {
    uint16_t selector;
    uint64_t va;     /* linear address of the descriptor */
    uint32_t low, high;
    uint64_t upper;  /* second half of 16-byte system descriptors in long mode */
};
EMU_INLINE unsigned desc_type(const struct desc *d) { return (d->high >> 8) & 15; }
EMU_INLINE bool desc_is_segment(const struct desc *d) { return (d->high >> 12) & 1; } /* S: code or data */
EMU_INLINE unsigned desc_dpl(const struct desc *d) { return (d->high >> 13) & 3; }
EMU_INLINE bool desc_present(const struct desc *d) { return (d->high >> 15) & 1; }
EMU_INLINE bool desc_is_code(const struct desc *d) { return desc_is_segment(d) && (desc_type(d) & SEG_CODE); }
EMU_INLINE bool desc_conforming(const struct desc *d) { return (desc_type(d) & SEG_DOWN_CONFORM) != 0; }
EMU_INLINE bool desc_long(const struct desc *d) { return (d->high >> 21) & 1; }
EMU_INLINE bool desc_db(const struct desc *d) { return (d->high >> 22) & 1; }
EMU_INLINE bool sel_is_null(uint16_t s) { return (s & 0xFFFC) == 0; }

/* Reads the descriptor of a selector. 0; 1: outside of its table (nothing raised); -1: the read itself faulted (cpu->fault). */
EMU_PRIV int desc_find(struct cpu *c, uint16_t selector, struct desc *d);
/* The same, raising `vector` with the selector as error code where it lies outside. */
EMU_PRIV int desc_fetch(struct cpu *c, uint16_t selector, unsigned vector, unsigned ext, struct desc *d);
EMU_PRIV void desc_to_seg(const struct desc *d, uint16_t selector, struct seg *s);
EMU_PRIV int desc_set_type_bits(struct cpu *c, struct desc *d, unsigned set, unsigned clear); /* accessed, busy; in memory too */
EMU_PRIV int desc_load_upper(struct cpu *c, struct desc *d, unsigned ext); /* 16-byte descriptor: #GP(selector) if it is cut off */
EMU_PRIV int desc_error(struct cpu *c, unsigned vector, uint16_t selector, unsigned ext); /* raises */
EMU_PRIV int desc_load_ldtr(struct cpu *c, uint16_t selector, unsigned vector); /* LLDT (GP), task switch (TS) */
EMU_PRIV int desc_load_tr(struct cpu *c, uint16_t selector);
EMU_PRIV void seg_set_null(struct cpu *c, unsigned seg, uint16_t selector);
EMU_PRIV void seg_drop_inner(struct cpu *c, unsigned new_cpl); /* after a return outward: segments that CPL may not keep */
/* SS for a stack switch to `cpl` (interrupt, gate: vector TS, GP where the manual says so). */
EMU_PRIV int seg_fetch_stack(struct cpu *c, uint16_t selector, unsigned cpl, unsigned vector, unsigned np_vector, unsigned ext, struct seg *out);
EMU_PRIV uint64_t seg_stack_mask(const struct cpu *c, const struct seg *ss);

/* A stack that is being filled before anything is committed. */
struct stack {
    struct seg ss;
    uint64_t rsp;
    bool wide;         /* 64-bit: no segment, canonical addresses */
    unsigned access;   /* ACCESS_SYSTEM when the stack belongs to another privilege level than the present one */
    uint32_t error;    /* of #SS */
};
EMU_PRIV int stack_push(struct cpu *c, struct stack *s, uint64_t value, unsigned size);
EMU_PRIV void stack_set_rsp(struct cpu *c, const struct seg *ss, uint64_t rsp); /* by SS size */

/* TSS: stack for a level. Raises #TS. */
EMU_PRIV int tss_stack(struct cpu *c, unsigned cpl, unsigned ext, uint16_t *ss, uint64_t *rsp);

enum task_source { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
/* Hardware task switch to the TSS of d. return_ip: EIP to be saved in the old TSS. On success and on faults within the new task
 * cpu->rip and next_rip are the new task's. */
EMU_PRIV int task_switch(struct cpu *c, struct desc *d, enum task_source source, bool has_error, uint32_t error, uint64_t return_ip, unsigned ext);
/* One delivery, without nesting; sets cpu->rip. ext: EXT bit for error codes. */
EMU_PRIV int exc_deliver_once(struct cpu *c, const struct fault *f, uint64_t return_rip);

#endif

/* ======================================== src/dev/dev.h ======================================== */

/* dev/dev.h - the PC's devices: their classes, and the calls between chips that are no interrupt line.
 *
 * Contract   board.c lists the classes in its table, creates the chips in the order that it likes and then calls chipset_fill_cmos().
 *            The first chip that is created allocates emu->chipset; board.c frees it (chipset_free) after the last is gone.
 *            A chip that is missing has a NULL here, and every function below copes with that.
 */
#ifndef EMU_DEV_H
#define EMU_DEV_H

#ifdef EMU_AMALGAMATION
#define DEVICE_CLASS_DECLARE(name) static EMU_UNUSED const struct device_class name
#else
#define DEVICE_CLASS_DECLARE(name) extern const struct device_class name
#endif

/* ---- classes: name of the constant, -device name beside it ---- */
DEVICE_CLASS_DECLARE(i440fx_class);         /* i440FX */
DEVICE_CLASS_DECLARE(piix3_class);          /* PIIX3 */
DEVICE_CLASS_DECLARE(piix4_pm_class);       /* PIIX4_PM */
DEVICE_CLASS_DECLARE(port92_class);         /* port92 */
DEVICE_CLASS_DECLARE(pic_class);            /* i8259 */
DEVICE_CLASS_DECLARE(ioapic_class);         /* ioapic */
DEVICE_CLASS_DECLARE(lapic_class);          /* apic: one device for the local APICs of all CPUs */
DEVICE_CLASS_DECLARE(pit_class);            /* i8254 */
DEVICE_CLASS_DECLARE(hpet_class);           /* hpet */
DEVICE_CLASS_DECLARE(rtc_class);            /* mc146818rtc */
DEVICE_CLASS_DECLARE(dma_class);            /* i8237 */
DEVICE_CLASS_DECLARE(fw_cfg_class);         /* fw_cfg */
DEVICE_CLASS_DECLARE(fdc_class);            /* isa-fdc */
DEVICE_CLASS_DECLARE(debugcon_class);       /* isa-debugcon */
DEVICE_CLASS_DECLARE(debug_exit_class);     /* isa-debug-exit */
DEVICE_CLASS_DECLARE(pc_testdev_class);     /* pc-testdev */
DEVICE_CLASS_DECLARE(pci_testdev_class);    /* pci-testdev */

/* ---- the chipset's chips ---- */
struct chipset {
    struct i440fx *i440fx;
    struct piix3 *piix3;
    struct pm *pm;
    struct port92 *port92;
    struct pic_pair *pic;
    struct ioapic *ioapic;
    struct lapic_set *lapics;
    struct pit *pit;
    struct hpet *hpet;
    struct rtc *rtc;
    struct dma *dma;
    struct fdc *fdc;
};
EMU_INLINE struct chipset *chipset_of(const struct emu *e) { return (struct chipset *)e->chipset; }
EMU_PRIV struct chipset *chipset_get(struct emu *e); /* pci.c: allocates it the first time; NULL: out of memory */
EMU_PRIV void chipset_free(struct emu *e);

/* Priorities in the memory map. The highest wins. */
enum chipset_priority {
    MAP_PRIO_RAM = 0,
    MAP_PRIO_HOLE = 0,   /* A0000h-FFFFFh as the PCI bus sees it: nobody; added after RAM, so it hides it */
    MAP_PRIO_BAR = -1,   /* PCI BARs: below RAM, as the host bridge decodes */
    MAP_PRIO_VGA = 1,    /* the legacy window at A0000h */
    MAP_PRIO_ROM = 2,    /* ROM images at C0000h-FFFFFh */
    MAP_PRIO_PAM = 10,   /* shadow RAM over them */
    MAP_PRIO_SMRAM = 20, /* RAM under the VGA window, opened by SMRAM.D_OPEN */
    MAP_PRIO_CHIP = 30   /* IO-APIC, HPET, local APIC */
};

/* ---- interrupt inputs ---- */
/* What board_gsi() lines do: lines 0-15 to the 8259 pair and the IO-APIC (line 0 to pin 2), 16-23 to the IO-APIC. opaque: struct emu. */
EMU_PRIV void chipset_set_gsi(void *emu, int gsi, int level);
EMU_PRIV void pic_set_line(struct emu *e, int line, int level);        /* 0-15; 2 is the cascade and ignored */
EMU_PRIV int pic_acknowledge(struct emu *e);                           /* INTA: a vector, a spurious one if nothing waits */
EMU_PRIV bool pic_intr(struct emu *e);                                 /* the pair's INTR output */
EMU_PRIV void ioapic_set_pin(struct emu *e, int pin, int level);       /* 0-23 */
EMU_PRIV void ioapic_eoi(struct emu *e, uint8_t vector);               /* EOI message of a local APIC */
EMU_PRIV void lapic_set_lint0(struct emu *e, int level);               /* the 8259's INTR, wired to LINT0 of every CPU */
EMU_PRIV void lapic_nmi(struct emu *e);                                /* LINT1 of every CPU: monitor nmi, SERR */
enum apic_delivery { APIC_FIXED = 0, APIC_LOWEST = 1, APIC_SMI = 2, APIC_NMI = 4, APIC_INIT = 5, APIC_STARTUP = 6, APIC_EXTINT = 7 };
EMU_PRIV void apic_deliver(struct emu *e, uint32_t dest, bool logical, unsigned delivery, uint8_t vector, bool level_triggered);
EMU_PRIV void lapic_cpu_reset(struct cpu *c);                          /* a lone CPU is reset (not by INIT) */
EMU_PRIV void lapic_tsc_changed(struct cpu *c);                        /* its TSC was written: the deadline moves in virtual time */
EMU_PRIV void piix3_set_pirq(void *piix3, int pirq, int level);        /* PIRQ A-D; emu->pci->intx lines end here */
EMU_PRIV void chipset_set_ferr(struct emu *e, bool on);                /* CPU's FERR#: IRQ 13 until port F0h is written */
/* IRQ 0 of the PIT and IRQ 8 of the RTC pass the HPET, which takes their place in legacy replacement mode. */
EMU_PRIV void hpet_pass_legacy(struct emu *e, int line, int level);

/* ---- reset, A20, power ---- */
EMU_PRIV void chipset_set_a20(struct emu *e, bool on); /* last writer (port 92h, keyboard controller) wins */
EMU_PRIV bool chipset_get_a20(const struct emu *e);
EMU_PRIV void piix3_reset_control(struct emu *e, uint8_t value); /* write to CF9h */
EMU_PRIV uint8_t piix3_read_reset_control(struct emu *e);
EMU_PRIV void piix4_pm_apm_command(struct emu *e, uint8_t value); /* write to B2h */

/* ---- PIT and speaker ---- */
EMU_PRIV bool pit_output(struct emu *e, unsigned channel);
EMU_PRIV void pit_set_gate(struct emu *e, unsigned channel, bool on);
EMU_PRIV bool pit_gate(struct emu *e, unsigned channel);

/* ---- RTC ---- */
/* Memory sizes, boot order, drive types, equipment: what SeaBIOS and DOS look for. After all drives are known. */
EMU_PRIV void chipset_fill_cmos(struct emu *e);
EMU_PRIV unsigned fdc_drive_type(struct emu *e, unsigned drive); /* CMOS code: 0 none, 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M */

/* ---- PCI: more than machine.h has ---- */
EMU_PRIV void pci_bus_reset(struct emu *e);   /* pci_device_reset() of all: first thing in board_reset() */
EMU_PRIV void pci_bus_destroy(struct emu *e); /* after all PCI devices */
EMU_PRIV int pci_parse_devfn(struct options *opts, int *devfn, struct err *err); /* addr=slot[.function], hex; unchanged where absent */
/* MSI-X: table and pending bits in a memory BAR of their own. */
EMU_PRIV int pci_add_msix_bar(struct pci_device *d, unsigned bar, unsigned vectors);
EMU_PRIV bool pci_msix_enabled(const struct pci_device *d);
EMU_PRIV void pci_msix_send(struct pci_device *d, unsigned vector);
/* Whichever of MSI-X, MSI and INTx the guest chose: a pulse for the first two, the level for INTx. */
EMU_PRIV void pci_notify(struct pci_device *d, unsigned vector, int intx_level);

/* ---- monitor ---- */
EMU_PRIV void pic_print_info(struct emu *e, struct buf *out);
EMU_PRIV void ioapic_print_info(struct emu *e, struct buf *out);
EMU_PRIV void lapic_print_info(struct emu *e, unsigned cpu, struct buf *out);

/* ==== storage, display, input, serial ==== */
DEVICE_CLASS_DECLARE(uart_class);     /* isa-serial */
DEVICE_CLASS_DECLARE(parallel_class); /* isa-parallel */
DEVICE_CLASS_DECLARE(ps2_class);      /* i8042 */
DEVICE_CLASS_DECLARE(vga_class);      /* VGA */
DEVICE_CLASS_DECLARE(ide_class);      /* piix3-ide */
DEVICE_CLASS_DECLARE(ata_class);      /* ide-hd */
DEVICE_CLASS_DECLARE(atapi_class);    /* ide-cd */

#endif

/* ======================================== src/dev/ide.h ======================================== */

/* dev/ide.h - what the IDE controller (ide.c) and its drives (ata.c, atapi.c) share.
 *
 * Contract   A drive is a device of class ide-hd or ide-cd that begins with struct ide_drive and has called ide_attach(). The
 *            controller hands it each command; the drive answers with the transfer helpers below, which end in ide_finish(),
 *            ide_idle() or ide_fail(). Drives never touch ports, interrupt lines or guest memory themselves.
 * Invariants 1. At most one of these is under way per drive: a block request, a DRQ window, a DMA window, a gap. Each helper
 *               starts one, and its continuation starts the next.
 *            2. Windows lie inside buf[0, IDE_BUF_BYTES).
 */
#ifndef EMU_DEV_IDE_H
#define EMU_DEV_IDE_H

#define IDE_SECTOR_BYTES 512u
#define IDE_BUF_BYTES (128u * 1024) /* 256 sectors: what one 28-bit command moves at most */

enum ide_status { /* ATA/ATAPI-6 §7.15 */
    IDE_BSY = 0x80,
    IDE_DRDY = 0x40,
    IDE_DF = 0x20,
    IDE_DSC = 0x10, /* seek complete; obsolete since ATA-4, but old drivers test for 50h */
    IDE_DRQ = 0x08,
    IDE_ERR = 0x01 /* CHK for packet devices */
};
enum ide_error { /* ATA/ATAPI-6 §7.9 */
    IDE_ERROR_UNC = 0x40,
    IDE_ERROR_IDNF = 0x10,
    IDE_ERROR_ABRT = 0x04
};
enum ide_phase { IDE_PHASE_NONE, IDE_PHASE_PIO_IN, IDE_PHASE_PIO_OUT, IDE_PHASE_DMA_IN, IDE_PHASE_DMA_OUT };

struct ide_drive;
typedef void (*ide_fn)(struct ide_drive *d);
typedef void (*ide_result_fn)(struct ide_drive *d, int result);

struct ide_drive_ops {
    void (*command)(struct ide_drive *d, uint8_t command); /* status is DRDY|DSC, error 0 when called */
    ide_fn signature;   /* task file and status as after a reset; transfers are already stopped */
    bool packet;        /* ATAPI: takes DEVICE RESET */
};

struct ide_drive {
    struct device dev;
    const struct ide_drive_ops *ops;
    struct ide_channel *channel;
    unsigned unit; /* 0 master, 1 slave */
    struct blk *blk;

    /* task file; the hob_ ones are the previous contents (48-bit commands) */
    uint8_t feature, count, lba[3], device, status, error;
    uint8_t hob_feature, hob_count, hob_lba[3];
    bool intrq;

    /* transfer engine */
    uint8_t *buf;
    uint32_t pos, end; /* the window: next byte, first byte behind it */
    uint8_t phase;     /* enum ide_phase */
    ide_fn window_done;
    struct timer gap_timer;
    ide_fn gap_done;
    struct blk_request request;
    struct host_iov iov;
    ide_result_fn io_done;
    bool io_pending;
};

/* Takes drive=, bus=ide.N, unit=N; places the drive on its channel. blk may stay empty only for packet devices. */
EMU_PRIV int ide_attach(struct ide_drive *d, const struct ide_drive_ops *ops, struct options *opts, struct err *err);
EMU_PRIV void ide_detach(struct ide_drive *d);
EMU_PRIV void ide_stop(struct ide_drive *d); /* cancels whatever is under way */

EMU_PRIV void ide_pio_in(struct ide_drive *d, uint32_t offset, uint32_t size, ide_fn taken);                /* DRQ, INTRQ */
EMU_PRIV void ide_pio_out(struct ide_drive *d, uint32_t offset, uint32_t size, bool interrupt, ide_fn filled);
EMU_PRIV void ide_dma(struct ide_drive *d, bool to_memory, uint32_t offset, uint32_t size, ide_fn moved);    /* waits for the bus master */
EMU_PRIV void ide_gap(struct ide_drive *d, ide_fn next);                                                    /* a moment of BSY */
EMU_PRIV void ide_io(struct ide_drive *d, enum blk_op op, uint64_t offset, uint32_t buf_offset, uint64_t size, ide_result_fn done); /* BSY */
EMU_PRIV void ide_finish(struct ide_drive *d);                /* command done: DRDY|DSC, INTRQ */
EMU_PRIV void ide_idle(struct ide_drive *d);                  /* the same without an interrupt */
EMU_PRIV void ide_fail(struct ide_drive *d, uint8_t error);   /* ERR with these error bits, INTRQ */
EMU_PRIV void ide_put_string(uint8_t *words, unsigned bytes, const char *text); /* IDENTIFY strings: swapped pairs, blanks behind */

#endif

/* ======================================== src/net/net.h ======================================== */

/* net/net.h - what the network's files share: backends, filters, hubs, and the packet helpers.
 *
 * Contract   Only net/ includes this (and board.c for net_create()). NIC devices know struct net_port of machine.h alone.
 */
#ifndef EMU_NET_H
#define EMU_NET_H

/* ---- link.c: backends by name, hubs, NICs of the command line ---- */
struct netdev_class { /* one type= of -netdev */
    const char *type;
    const char *help;
    /* Creates and registers a port; options are all read (unused ones are an error of the caller). */
    int (*create)(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);
};
EMU_PRIV int netdev_user_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);   /* nat.c */
EMU_PRIV int netdev_tap_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);    /* tap.c */
EMU_PRIV int netdev_bridge_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* tap.c */
EMU_PRIV int netdev_socket_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* socket.c */
EMU_PRIV int netdev_stream_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* socket.c */
EMU_PRIV int netdev_dgram_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);  /* socket.c */
EMU_PRIV int netdev_hubport_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* link.c */
EMU_PRIV int netdev_embed_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);  /* front/api.c */

/* ---- filters: look at, or hold, the frames of one port ---- */
enum net_direction { NET_TO_PEER, NET_FROM_PEER }; /* seen from the port the filter is on */
struct net_filter {
    char id[64];
    struct net_port *port;
    /* 1: taken over (held or dropped), 0: pass it on. The frame may be a super-frame. */
    int (*frame)(struct net_filter *f, enum net_direction d, const struct net_frame *frame);
    void (*destroy)(struct net_filter *f);
    struct net_filter *next;
};
EMU_PRIV int filter_dump_create(struct emu *e, struct options *opts, struct err *err);   /* dump.c */
EMU_PRIV int filter_impair_create(struct emu *e, struct options *opts, struct err *err); /* impair.c */
EMU_PRIV void net_filter_attach(struct net_port *p, struct net_filter *f);
EMU_PRIV void net_filter_detach(struct net_filter *f);
/* Delivers past the filters: what a holding filter calls later. Drops (and counts) if the receiver is full. */
EMU_PRIV void net_deliver(struct net_port *port, enum net_direction d, const struct net_frame *frame);

/* ---- super-frames ---- */
EMU_PRIV size_t net_frame_copy(const struct net_frame *f, size_t offset, void *buf, size_t size); /* bytes copied */
/* Cuts a super-frame into plain frames with right headers and checksums, or fills in the checksum of a single one; calls each for every
 * frame (one flat piece). max_payload: of each cut TCP segment (f->gso_size normally). Stops early if each returns 0; returns frames delivered. */
EMU_PRIV int net_frame_cut(const struct net_frame *f, int (*each)(void *opaque, const struct net_frame *plain), void *opaque);
EMU_PRIV uint16_t net_checksum(const void *data, size_t size, uint32_t start); /* RFC 1071: folded, complemented */
EMU_PRIV uint32_t net_checksum_add(const void *data, size_t size, uint32_t sum); /* running 32-bit sum (even offset) */
EMU_PRIV uint16_t net_checksum_fold(uint32_t sum);

EMU_PRIV int mac_parse(const char *text, uint8_t mac[6]); /* 0, or EMU_EINVAL; multicast is refused */

#endif

/* ======================================== src/front/front.h ======================================== */

/* front/front.h - what command line, monitor, terminal, debugger stub and public API share.
 *
 * Contract   Only front/ includes this. struct front hangs on emu->front; the parts below own their pointers in it.
 */
#ifndef EMU_FRONT_H
#define EMU_FRONT_H

enum front_display { DISPLAY_DEFAULT, DISPLAY_NONE, DISPLAY_CURSES };

struct provided { /* a disk, serial line or network of the embedding program */
    char *name;
    enum { PROVIDED_DISK, PROVIDED_SERIAL, PROVIDED_NET } kind;
    struct emu_disk_ops disk;
    void (*output)(void *opaque, const void *bytes, size_t count);
    void *opaque;
    struct chr *chr;       /* PROVIDED_SERIAL: once attached */
    struct net_port *port; /* PROVIDED_NET */
    struct provided *next;
};

struct front {
    struct emu *emu;
    bool program;    /* started as the emu program: terminal, signals and exit belong to us */
    bool configured;
    struct provided *provided;
    struct emu_wait *waits;
    size_t wait_capacity;

    /* command line */
    struct config_line *chardevs, *mons;
    char *monitor[4]; /* -monitor specs */
    unsigned monitor_count;
    bool monitor_given, serial_given, nographic;
    unsigned serial_count, parallel_count;
    char *gdb; /* -gdb device, or NULL */
    char *debugcon;
    enum front_display display;
    char *pidfile, *log_path;
    FILE *log_file;
    bool daemonize;
    int echr; /* escape character of the terminal multiplexer, Ctrl-A */
    char *firmware_dir; /* -L */

    /* parts */
    struct monitor *monitors;
    struct gdbstub *gdbstub;
    struct curses *curses;
    struct silence *silence;
    void (*hook_log)(void *opaque, const char *line);
    void *(*hook_allocate)(void *opaque, void *old, size_t bytes);
    void *hook_opaque;
};
EMU_INLINE struct front *front_of(const struct emu *e) { return (struct front *)e->front; }

/* ---- options.c ---- */
/* Reads the command line into emu->config and struct front. 0, EMU_E..., or 1: something was printed (help, version), end with status 0. */
EMU_PRIV int front_parse(struct emu *e, int argc, const char *const *argv, struct err *err);
EMU_PRIV void front_free_config(struct emu *e);
EMU_PRIV struct config_line *front_add_line(struct emu *e, struct config_line **list, const char *origin, const char *text, const char *implied, struct err *err);

/* ---- monitor.c ---- */
EMU_PRIV int monitor_create(struct emu *e, struct chr *chr, struct err *err); /* an interactive monitor on that line */
EMU_PRIV void monitor_command(struct emu *e, const char *line, struct buf *out); /* runs one line */
EMU_PRIV void monitor_destroy_all(struct emu *e);
EMU_PRIV int front_key_number(const char *name); /* -1: unknown */

/* ---- gdb.c ---- */
EMU_PRIV int gdb_create(struct emu *e, const char *device, struct err *err); /* tcp::1234, unix:path, stdio */
EMU_PRIV void gdb_destroy(struct emu *e);

/* ---- curses.c: -display curses ---- */
EMU_PRIV int curses_create(struct emu *e, struct err *err);
EMU_PRIV void curses_destroy(struct emu *e);
/* One line on the terminal when the screen changes but the serial line stays silent. */
EMU_PRIV int silence_create(struct emu *e);
EMU_PRIV void silence_destroy(struct emu *e);

/* ---- png.c ---- */
EMU_PRIV int screen_save(struct emu *e, const char *path, const char *format, struct err *err); /* "ppm", "png"; NULL: by the name's end */
EMU_PRIV int screen_text_print(struct emu *e, struct buf *out); /* the text screen as lines; EMU_ENOENT in a graphics mode */

/* ---- api.c ---- */
EMU_PRIV struct provided *front_provided(struct emu *e, int kind, const char *name);
EMU_PRIV int front_configure(struct emu *e, int argc, const char *const *argv, struct err *err); /* as front_parse() */

#endif

/* ======================================== src/machine/util.c ======================================== */

/* machine/util.c - errors, log lines, allocation, byte buffers and option lists.
 *
 * Models     The key=value syntax of QEMU's command line: "," separates, ",," is a comma, a bare first word has an implied key.
 * Contract   Used by everybody, knows nobody. err_set() never fails; a struct buf that could not grow says so in `failed`.
 * Theory     All memory goes through the embedder's one allocation function (realloc-like); without one, libc's. In the
 *            EMU_TORTURE build every allocation may fail by a counter, so that tests reach each failure path.
 * Invariants 1. Memory from emu_alloc() is zeroed.
 *            2. An option's text is never changed after parsing; `used` is all that reading sets.
 */

/* ---- errors and log ---- */

EMU_PRIV int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;
    if (err) {
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

EMU_PRIV int err_prefix(struct err *err, int code, const char *fmt, ...)
{
    struct err was;
    size_t n;
    va_list ap;
    if (!err)
        return code;
    was = *err;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    n = strlen(err->text);
    snprintf(err->text + n, sizeof err->text - n, ": %s", was.text);
    return code;
}

const char *emu_strerror(int error)
{
    switch (error) {
    case EMU_OK: return "success";
    case EMU_EINVAL: return "invalid argument";
    case EMU_ENOMEM: return "out of memory";
    case EMU_EIO: return "input/output error";
    case EMU_ENOENT: return "no such file";
    case EMU_EACCES: return "permission denied";
    case EMU_EBUSY: return "in use by another process";
    case EMU_ENOSPC: return "no space left on the host's disk";
    case EMU_EROFS: return "read-only";
    case EMU_ENOTSUP: return "not supported";
    case EMU_EFORMAT: return "damaged or unknown format";
    case EMU_ERANGE: return "out of range";
    case EMU_EAGAIN: return "not ready";
    case EMU_EPIPE: return "the peer is gone";
    case EMU_EEXIST: return "exists already";
    case EMU_ECONNREFUSED: return "connection refused";
    case EMU_EUNREACH: return "unreachable";
    case EMU_ETIMEDOUT: return "timed out";
    case EMU_ECONNRESET: return "connection reset";
    case EMU_EMSGSIZE: return "message too long";
    case EMU_EFAULT: return "address not mapped";
    case EMU_EADDRINUSE: return "address in use";
    default: return "unknown error";
    }
}

EMU_PRIV void emu_log(struct emu *e, unsigned mask, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (!(mask & (e->log_mask | LOG_NOTICE)))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (e->log_fn)
        e->log_fn(e->hook_opaque, mask, text);
    else
        fprintf(stderr, mask & LOG_NOTICE ? "emu: %s\n" : "%s\n", text);
}

EMU_PRIV void emu_log_once(struct emu *e, bool *said, unsigned mask, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (*said || !(mask & (e->log_mask | LOG_NOTICE)))
        return;
    *said = true;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    emu_log(e, mask, "%s", text);
}

/* ---- allocation ---- */

EMU_PRIV void *emu_realloc(struct emu *e, void *p, size_t size)
{
#ifdef EMU_TORTURE
    if (e && size && e->torture_alloc_countdown && --e->torture_alloc_countdown == 0)
        return NULL;
#endif
    if (e && e->alloc_fn)
        return e->alloc_fn(e->hook_opaque, p, size);
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

EMU_PRIV void *emu_alloc(struct emu *e, size_t size)
{
    void *p = emu_realloc(e, NULL, size ? size : 1);
    if (p)
        memset(p, 0, size);
    return p;
}

EMU_PRIV void emu_free(struct emu *e, void *p)
{
    if (p)
        emu_realloc(e, p, 0);
}

EMU_PRIV char *emu_strdup(struct emu *e, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = emu_alloc(e, n);
    if (p)
        memcpy(p, s, n);
    return p;
}

/* ---- byte buffers ---- */

EMU_PRIV void buf_init(struct buf *b, struct emu *e)
{
    memset(b, 0, sizeof *b);
    b->emu = e;
}

EMU_PRIV void buf_free(struct buf *b)
{
    emu_free(b->emu, b->data);
    buf_init(b, b->emu);
}

/* Room for `more` bytes and a terminating zero. */
static bool util_buf_grow(struct buf *b, size_t more)
{
    size_t want;
    uint8_t *p;
    if (b->failed)
        return false;
    if (more < b->capacity - b->size && b->capacity)
        return true;
    want = EMU_MAX(b->capacity * 2, b->size + more + 1);
    want = EMU_MAX(want, (size_t)64);
    p = want > b->size ? emu_realloc(b->emu, b->data, want) : NULL;
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->capacity = want;
    return true;
}

EMU_PRIV void buf_add(struct buf *b, const void *data, size_t size)
{
    if (!util_buf_grow(b, size))
        return;
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
}

EMU_PRIV void buf_printf(struct buf *b, const char *fmt, ...)
{
    char text[512];
    va_list ap, again;
    int n;
    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof text) {
        buf_add(b, text, (size_t)n);
    } else if (n >= 0 && util_buf_grow(b, (size_t)n)) {
        vsnprintf((char *)b->data + b->size, (size_t)n + 1, fmt, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

/* ---- numbers ---- */

EMU_PRIV int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *value)
{
    uint64_t v = 0;
    unsigned base = 10;
    const char *p = s;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
        base = 16;
        p += 2;
    } else if (p[0] == '0' && p[1]) {
        base = 8;
        p++;
    }
    if (!*p)
        return EMU_EINVAL;
    for (; *p; p++) {
        unsigned d;
        if (*p >= '0' && *p <= '9')
            d = (unsigned)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            d = (unsigned)(*p - 'a') + 10;
        else if (*p >= 'A' && *p <= 'F')
            d = (unsigned)(*p - 'A') + 10;
        else
            return EMU_EINVAL;
        if (d >= base)
            return EMU_EINVAL;
        if (v > (UINT64_MAX - d) / base)
            return EMU_ERANGE;
        v = v * base + d;
    }
    if (v < min || v > max)
        return EMU_ERANGE;
    *value = v;
    return 0;
}

/* "64", "64K", "1.5G", "0x100000": up to nine decimals after the point are honoured. */
EMU_PRIV int parse_size(const char *s, char default_suffix, uint64_t *bytes)
{
    char number[40];
    static const char suffixes[] = "bkmgtpe";
    uint64_t whole = 0, unit, high;
    uint64_t fraction = 0, fraction_scale = 1;
    size_t n = 0;
    char suffix = default_suffix ? default_suffix : 'b';
    const char *where;
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
    while (s[n] && n < sizeof number - 1 &&
           ((s[n] >= '0' && s[n] <= '9') || (hex && (n == 1 || (s[n] >= 'a' && s[n] <= 'f') || (s[n] >= 'A' && s[n] <= 'F')))))
        n++;
    if (!n || n == sizeof number - 1)
        return EMU_EINVAL;
    memcpy(number, s, n);
    number[n] = 0;
    if (!hex) { /* a leading zero is no octal here */
        const char *q = number;
        while (*q == '0' && q[1])
            q++;
        memmove(number, q, strlen(q) + 1);
    }
    if (parse_u64(number, 0, UINT64_MAX, &whole))
        return EMU_ERANGE;
    s += n;
    if (*s == '.' && !hex) {
        for (s++; *s >= '0' && *s <= '9'; s++)
            if (fraction_scale < UINT64_C(1000000000)) {
                fraction = fraction * 10 + (uint64_t)(*s - '0');
                fraction_scale *= 10;
            }
    }
    if (*s) {
        suffix = *s >= 'A' && *s <= 'Z' ? (char)(*s - 'A' + 'a') : *s;
        s++;
        if (suffix != 'b' && ((s[0] == 'i' && (s[1] == 'B' || s[1] == 'b')) || s[0] == 'B' || s[0] == 'b'))
            s += s[0] == 'i' ? 2 : 1;
    }
    where = strchr(suffixes, suffix >= 'A' && suffix <= 'Z' ? suffix - 'A' + 'a' : suffix);
    if (*s || !where)
        return EMU_EINVAL;
    unit = UINT64_C(1) << (10 * (unsigned)(where - suffixes));
    *bytes = mul64(whole, unit, &high);
    if (high)
        return EMU_ERANGE;
    *bytes += muldiv64(fraction, unit, fraction_scale);
    return 0;
}

/* ---- option lists ---- */

EMU_PRIV int options_set(struct options *o, const char *key, const char *value)
{
    struct option *items = emu_realloc(o->emu, o->items, (o->count + 1) * sizeof *items);
    if (!items)
        return EMU_ENOMEM;
    o->items = items;
    items[o->count].key = emu_strdup(o->emu, key);
    items[o->count].value = emu_strdup(o->emu, value);
    items[o->count].used = false;
    if (!items[o->count].key || !items[o->count].value) {
        emu_free(o->emu, items[o->count].key);
        emu_free(o->emu, items[o->count].value);
        return EMU_ENOMEM;
    }
    o->count++;
    return 0;
}

/* One element up to a single comma; ",," becomes ",". Returns the text after it, or NULL at the end. */
static const char *util_option_element(const char *text, char *out)
{
    while (*text) {
        if (*text == ',') {
            if (text[1] != ',') {
                *out = 0;
                return text + 1;
            }
            text++;
        }
        *out++ = *text++;
    }
    *out = 0;
    return NULL;
}

EMU_PRIV int options_parse(struct options *o, struct emu *e, const char *origin, const char *text, const char *implied_key, struct err *err)
{
    size_t room = strlen(text) + 1, origin_size = strlen(origin) + room + 2;
    char *element = emu_alloc(e, room);
    const char *next = text;
    bool first = true;
    int r = 0;
    memset(o, 0, sizeof *o);
    o->emu = e;
    o->origin = emu_alloc(e, origin_size);
    if (!element || !o->origin)
        r = EMU_ENOMEM;
    else
        snprintf(o->origin, origin_size, "%s %s", origin, text);
    while (!r && next && *text) {
        char *equals;
        const char *path;
        next = util_option_element(next, element);
        equals = strchr(element, '=');
        path = strpbrk(element, "/:");
        if (first && implied_key && (!equals || (path && path < equals))) {
            r = options_set(o, implied_key, element);
        } else if (equals) {
            *equals = 0;
            r = options_set(o, element, equals + 1);
        } else if (!strcmp(element, "nowait") || !strcmp(element, "noserver")) { /* the old spelling of wait=off */
            r = options_set(o, element + 2, "off");
        } else if (*element) {
            r = options_set(o, element, "on");
        }
        first = false;
    }
    emu_free(e, element);
    if (r) {
        options_free(o);
        return err_set(err, r, "%s %s: out of memory", origin, text);
    }
    return 0;
}

EMU_PRIV void options_free(struct options *o)
{
    size_t i;
    for (i = 0; i < o->count; i++) {
        emu_free(o->emu, o->items[i].key);
        emu_free(o->emu, o->items[i].value);
    }
    emu_free(o->emu, o->items);
    emu_free(o->emu, o->origin);
    o->items = NULL;
    o->origin = NULL;
    o->count = 0;
}

EMU_PRIV const char *options_get(struct options *o, const char *key)
{
    const char *value = NULL;
    size_t i;
    for (i = 0; i < o->count; i++)
        if (!strcmp(o->items[i].key, key)) {
            o->items[i].used = true;
            value = o->items[i].value;
        }
    return value;
}

EMU_PRIV const char *options_get_nth(struct options *o, const char *key, size_t n)
{
    size_t i;
    for (i = 0; i < o->count; i++)
        if (!strcmp(o->items[i].key, key) && n-- == 0) {
            o->items[i].used = true;
            return o->items[i].value;
        }
    return NULL;
}

EMU_PRIV int options_bool(struct options *o, const char *key, bool *value, struct err *err)
{
    const char *s = options_get(o, key);
    if (!s)
        return 0;
    if (!strcmp(s, "on") || !strcmp(s, "yes") || !strcmp(s, "true") || !strcmp(s, "y"))
        *value = true;
    else if (!strcmp(s, "off") || !strcmp(s, "no") || !strcmp(s, "false") || !strcmp(s, "n"))
        *value = false;
    else
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not on or off", o->origin, key, s);
    return 0;
}

EMU_PRIV int options_u64(struct options *o, const char *key, uint64_t min, uint64_t max, uint64_t *value, struct err *err)
{
    const char *s = options_get(o, key);
    if (!s)
        return 0;
    if (parse_u64(s, min, max, value))
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not a number between %" PRIu64 " and %" PRIu64, o->origin, key, s, min, max);
    return 0;
}

EMU_PRIV int options_size(struct options *o, const char *key, uint64_t *bytes, struct err *err)
{
    const char *s = options_get(o, key);
    if (!s)
        return 0;
    if (parse_size(s, 'b', bytes))
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not a size (like 512, 64K, 1.5G)", o->origin, key, s);
    return 0;
}

EMU_PRIV int options_check_used(struct options *o, struct err *err)
{
    size_t i;
    for (i = 0; i < o->count; i++)
        if (!o->items[i].used)
            return err_set(err, EMU_EINVAL, "%s: unknown option \"%s\"", o->origin, o->items[i].key);
    return 0;
}

/* ======================================== src/machine/clock.c ======================================== */

/* machine/clock.c - virtual time and the event queue.
 *
 * Contract   Devices read emu_now_ns() and arm timers; the run loop asks for the next deadline and runs what is due.
 * Theory     Virtual time is nanoseconds since power-on. Without -icount it follows the host's monotonic clock, sampled at every read:
 *            virtual = host - origin. A jump of more than CLOCK_STALL_NS between two reads (the host slept, a debugger stopped
 *            us) counts as CLOCK_STALL_NS only: the origin moves. While frozen it stands still. With -icount it is (instructions << shift) plus
 *            what was skipped while the CPUs were idle; no host clock enters, so that a run repeats bit for bit.
 *            The queue is a binary heap ordered by (deadline, order of arming).
 * Invariants 1. emu_now_ns() never goes back.
 *            2. timer_heap[t->heap_index] == t for every armed timer.
 *            3. A callback may arm or cancel any timer, its own included.
 */

/* A host stall longer than this is cut down to it: guests' watchdogs would bark at the full jump. */
#define CLOCK_STALL_NS (2 * NS_PER_SEC)

static int64_t clock_icount_ns(struct emu *e)
{
    uint64_t n = e->current_cpu ? e->insn_total + cpu_insn_count(e->current_cpu) - e->insn_at_entry : e->insn_total;
    return (int64_t)(n << e->config.icount_shift) + e->icount_bias_ns;
}

EMU_PRIV int64_t emu_now_ns(struct emu *e)
{
    int64_t now;
    if (e->config.icount) {
        now = clock_icount_ns(e);
    } else {
        if (e->clock_frozen)
            return e->clock_last_ns;
        now = host_clock_ns() - e->clock_host_origin_ns;
        if (EMU_UNLIKELY(now > e->clock_last_ns + CLOCK_STALL_NS)) {
            e->clock_host_origin_ns += now - (e->clock_last_ns + CLOCK_STALL_NS);
            now = e->clock_last_ns + CLOCK_STALL_NS;
        }
    }
    if (now > e->clock_last_ns)
        e->clock_last_ns = now;
    return e->clock_last_ns;
}

EMU_PRIV void clock_freeze(struct emu *e, bool frozen)
{
    if (e->clock_frozen == frozen)
        return;
    if (frozen)
        emu_now_ns(e);
    else
        e->clock_host_origin_ns = host_clock_ns() - e->clock_last_ns;
    e->clock_frozen = frozen;
}

EMU_PRIV void clock_warp_to(struct emu *e, int64_t ns)
{
    int64_t now = emu_now_ns(e);
    if (e->config.icount && ns > now)
        e->icount_bias_ns += ns - now;
}

/* ---- the heap ---- */

static bool clock_before(const struct timer *a, const struct timer *b)
{
    return a->deadline_ns < b->deadline_ns || (a->deadline_ns == b->deadline_ns && a->order < b->order);
}

static void clock_place(struct emu *e, struct timer *t, size_t i)
{
    e->timer_heap[i] = t;
    t->heap_index = (int)i;
}

/* Moves the timer at i to where it belongs, up or down. */
static void clock_sift(struct emu *e, size_t i)
{
    struct timer *t = e->timer_heap[i];
    while (i && clock_before(t, e->timer_heap[(i - 1) / 2])) {
        clock_place(e, e->timer_heap[(i - 1) / 2], i);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= e->timer_count)
            break;
        if (child + 1 < e->timer_count && clock_before(e->timer_heap[child + 1], e->timer_heap[child]))
            child++;
        if (!clock_before(e->timer_heap[child], t))
            break;
        clock_place(e, e->timer_heap[child], i);
        i = child;
    }
    clock_place(e, t, i);
}

EMU_PRIV void timer_init(struct timer *t, struct emu *e, timer_fn fn, void *opaque)
{
    memset(t, 0, sizeof *t);
    t->emu = e;
    t->fn = fn;
    t->opaque = opaque;
    t->heap_index = -1;
}

EMU_PRIV bool timer_armed(const struct timer *t) { return t->heap_index >= 0; }

EMU_PRIV void timer_arm(struct timer *t, int64_t deadline_ns)
{
    struct emu *e = t->emu;
    t->deadline_ns = deadline_ns;
    t->order = e->timer_order++;
    if (t->heap_index < 0) {
        if (e->timer_count == e->timer_capacity) {
            size_t capacity = e->timer_capacity ? e->timer_capacity * 2 : 256;
            struct timer **heap = emu_realloc(e, e->timer_heap, capacity * sizeof *heap);
            if (!heap) { /* keep the machine going: the event is lost, which is said, and the run ends */
                emu_log(e, LOG_NOTICE, "out of memory for timers; the machine stops");
                emu_exit_with(e, 1);
                return;
            }
            e->timer_heap = heap;
            e->timer_capacity = capacity;
        }
        t->heap_index = (int)e->timer_count;
        e->timer_heap[e->timer_count++] = t;
    }
    clock_sift(e, (size_t)t->heap_index);
    if (t->heap_index == 0 && e->current_cpu)
        e->current_cpu->attention |= CPU_ATTENTION_TIMER; /* the running budget may be too long now */
}

EMU_PRIV void timer_cancel(struct timer *t)
{
    struct emu *e = t->emu;
    size_t i;
    if (t->heap_index < 0)
        return;
    i = (size_t)t->heap_index;
    t->heap_index = -1;
    if (i != --e->timer_count) {
        clock_place(e, e->timer_heap[e->timer_count], i);
        clock_sift(e, i);
    }
}

EMU_PRIV int64_t clock_next_deadline(struct emu *e) { return e->timer_count ? e->timer_heap[0]->deadline_ns : INT64_MAX; }

EMU_PRIV void clock_run_timers(struct emu *e)
{
    int64_t now = emu_now_ns(e);
    while (e->timer_count && e->timer_heap[0]->deadline_ns <= now) {
        struct timer *t = e->timer_heap[0];
        timer_cancel(t);
        t->fn(t->opaque);
    }
}

EMU_PRIV int clock_create(struct emu *e)
{
    e->timer_capacity = 256;
    e->timer_heap = emu_alloc(e, e->timer_capacity * sizeof *e->timer_heap);
    if (!e->timer_heap)
        return EMU_ENOMEM;
    e->clock_host_origin_ns = host_clock_ns();
    return 0;
}

EMU_PRIV void clock_destroy(struct emu *e)
{
    size_t i;
    for (i = 0; i < e->timer_count; i++)
        e->timer_heap[i]->heap_index = -1;
    emu_free(e, e->timer_heap);
    e->timer_heap = NULL;
    e->timer_count = e->timer_capacity = 0;
}

/* ======================================== src/machine/memory.c ======================================== */

/* machine/memory.c - guest-physical memory and port space.
 *
 * Contract   Devices add regions (RAM windows or callbacks) to one of two maps, emu->memory and emu->ports; CPU and DMA resolve
 *            addresses here. Writers of guest memory that do not come through here call mem_written() afterwards.
 * Theory     A map is a list of overlapping regions with priorities. From it a flat, sorted, gap-free list of ranges is made, in which
 *            reads and writes have an owner each (PAM sends them to different places). It is rebuilt at the first lookup after a
 *            change; lookups are a binary search, or for ports one table read. The CPU's TLB and trace cache sit in front of all
 *            this and are told about changes through emu->on_map_change.
 * Invariants 1. ranges cover 0 .. 2^64 without gap or overlap, unless the map is dirty.
 *            2. A region callback sees only offsets and sizes that its ops allow (min_size .. max_size, inside the region).
 *            3. Every change of block bytes passes mem_written() (or the CPU's own store path, which asks page_flags first).
 */

#define MEM_PAGE UINT64_C(4096)
#define MEM_PORTS 65536u

/* ---- blocks ---- */

EMU_PRIV struct ram_block *ram_block_create(struct emu *e, const char *name, uint64_t size_bytes, bool rom, struct err *err)
{
    struct ram_block *b;
    uint64_t size = (size_bytes + MEM_PAGE - 1) & ~(MEM_PAGE - 1);
    if (e->block_count == EMU_ARRAY_LEN(e->blocks)) {
        err_set(err, EMU_ENOMEM, "%s: too many memory blocks", name);
        return NULL;
    }
    b = emu_alloc(e, sizeof *b);
    if (b && size == (size_t)size && size >= size_bytes) {
        b->bytes = host_map_memory((size_t)size);
        b->page_flags = host_map_memory((size_t)(size / MEM_PAGE));
    }
    if (!b || !b->bytes || !b->page_flags) {
        if (b && b->bytes)
            host_unmap_memory(b->bytes, (size_t)size);
        emu_free(e, b);
        err_set(err, EMU_ENOMEM, "%s: the host gives no %" PRIu64 " MiB of memory; ask for less with -m", name, size / MIB);
        return NULL;
    }
    snprintf(b->name, sizeof b->name, "%s", name);
    b->size_bytes = size;
    b->rom = rom;
    b->id = e->block_count;
    e->blocks[e->block_count++] = b;
    return b;
}

/* ---- regions and the flat view ---- */

EMU_PRIV void region_init_io(struct region *r, const char *name, const struct region_ops *ops, void *opaque, uint64_t size)
{
    memset(r, 0, sizeof *r);
    r->name = name;
    r->kind = REGION_IO;
    r->access = REGION_READS | REGION_WRITES;
    r->ops = ops;
    r->opaque = opaque;
    r->size = size;
}

EMU_PRIV void region_init_ram(struct region *r, const char *name, struct ram_block *block, uint64_t block_offset, uint64_t size)
{
    memset(r, 0, sizeof *r);
    r->name = name;
    r->kind = REGION_RAM;
    r->access = REGION_READS | REGION_WRITES;
    r->block = block;
    r->block_offset = block_offset;
    r->size = size;
}

static void mem_map_changed(struct emu *e, struct map *map)
{
    map->dirty = true;
    if (map == &e->memory && e->on_map_change)
        e->on_map_change(e);
}

EMU_PRIV int region_add(struct emu *e, struct map *map, struct region *r, uint64_t base, int priority)
{
    if (r->added)
        return EMU_EEXIST;
    r->base = base;
    r->priority = priority;
    r->enabled = true;
    r->added = true;
    r->order = map->order++;
    r->next = map->regions;
    map->regions = r;
    mem_map_changed(e, map);
    return 0;
}

EMU_PRIV void region_remove(struct emu *e, struct map *map, struct region *r)
{
    struct region **p;
    for (p = &map->regions; *p; p = &(*p)->next)
        if (*p == r) {
            *p = r->next;
            r->added = false;
            mem_map_changed(e, map);
            return;
        }
}

EMU_PRIV void region_set(struct emu *e, struct map *map, struct region *r, uint64_t base, bool enabled)
{
    if (r->base == base && r->enabled == enabled)
        return;
    r->base = base;
    r->enabled = enabled;
    mem_map_changed(e, map);
}

static int mem_compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool mem_region_wins(const struct region *a, const struct region *b)
{
    return !b || a->priority > b->priority || (a->priority == b->priority && a->order > b->order);
}

static bool mem_region_covers(const struct region *r, uint64_t start, uint64_t last)
{
    return r->enabled && r->size && start >= r->base && last - r->base <= r->size - 1;
}

/* Rebuilds the flat view. If memory runs out the old view stays, and the next lookup tries again. */
static void mem_flatten(struct emu *e, struct map *map)
{
    size_t n = 0, points = 0, i, used = 0;
    uint64_t *cuts;
    struct region *r;
    for (r = map->regions; r; r = r->next)
        n++;
    cuts = emu_alloc(e, (2 * n + 1) * sizeof *cuts);
    if (cuts && map->range_capacity < 2 * n + 1) {
        struct map_range *ranges = emu_realloc(e, map->ranges, (2 * n + 1) * sizeof *ranges);
        if (ranges) {
            map->ranges = ranges;
            map->range_capacity = 2 * n + 1;
        }
    }
    if (!cuts || map->range_capacity < 2 * n + 1) {
        emu_free(e, cuts);
        return;
    }
    cuts[points++] = 0;
    for (r = map->regions; r; r = r->next)
        if (r->enabled && r->size) {
            cuts[points++] = r->base;
            if (r->base + r->size) /* not up to 2^64 */
                cuts[points++] = r->base + r->size;
        }
    qsort(cuts, points, sizeof *cuts, mem_compare_u64);
    for (i = 0; i < points; i++) {
        struct map_range range = { cuts[i], i + 1 < points ? cuts[i + 1] : 0, NULL, NULL };
        if (i + 1 < points && cuts[i] == cuts[i + 1])
            continue;
        for (r = map->regions; r; r = r->next)
            if (mem_region_covers(r, range.start, range.end - 1)) {
                if ((r->access & REGION_READS) && mem_region_wins(r, range.rd))
                    range.rd = r;
                if ((r->access & REGION_WRITES) && mem_region_wins(r, range.wr))
                    range.wr = r;
            }
        if (used && map->ranges[used - 1].rd == range.rd && map->ranges[used - 1].wr == range.wr)
            map->ranges[used - 1].end = range.end;
        else
            map->ranges[used++] = range;
    }
    map->range_count = used;
    map->dirty = false;
    emu_free(e, cuts);
    if (map->port_index)
        for (i = 0; i < used; i++) {
            uint64_t p, end = map->ranges[i].end && map->ranges[i].end < MEM_PORTS ? map->ranges[i].end : MEM_PORTS;
            for (p = map->ranges[i].start; p < end; p++)
                map->port_index[p] = (uint16_t)i;
        }
}

static const struct map_range *mem_find(struct emu *e, struct map *map, uint64_t address)
{
    size_t low = 0, high;
    if (EMU_UNLIKELY(map->dirty))
        mem_flatten(e, map);
    high = map->range_count;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (map->ranges[mid].start <= address)
            low = mid;
        else
            high = mid;
    }
    return &map->ranges[low];
}

/* ---- region callbacks with size adjustment ---- */

static uint64_t mem_ones(unsigned size) { return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1; }

static uint64_t mem_io_read(struct region *r, uint64_t offset, unsigned size)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1, max = r->ops->max_size ? r->ops->max_size : 4;
    uint64_t value = 0;
    unsigned done = 0;
    if (!r->ops->read)
        return mem_ones(size);
    if (size < min) {
        uint64_t aligned = offset & ~(uint64_t)(min - 1);
        unsigned shift = (unsigned)(offset - aligned);
        if (shift + size > min) /* crosses: bytewise */
            return mem_io_read(r, offset, size / 2) | (mem_io_read(r, offset + size / 2, size / 2) << (4 * size));
        return (r->ops->read(r->opaque, aligned, min) >> (8 * shift)) & mem_ones(size);
    }
    if (size <= max)
        return r->ops->read(r->opaque, offset, size) & mem_ones(size);
    for (; done < size; done += max)
        value |= (r->ops->read(r->opaque, offset + done, max) & mem_ones(max)) << (8 * done);
    return value;
}

static void mem_io_write(struct region *r, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1, max = r->ops->max_size ? r->ops->max_size : 4;
    unsigned done = 0;
    if (!r->ops->write)
        return;
    value &= mem_ones(size);
    if (size < min && !r->ops->write_any) {
        uint64_t aligned = offset & ~(uint64_t)(min - 1), old;
        unsigned shift = (unsigned)(offset - aligned);
        if (shift + size > min) {
            mem_io_write(r, offset, value, size / 2);
            mem_io_write(r, offset + size / 2, value >> (4 * size), size / 2);
            return;
        }
        old = r->ops->read ? r->ops->read(r->opaque, aligned, min) : 0;
        value = (old & ~(mem_ones(size) << (8 * shift))) | (value << (8 * shift));
        r->ops->write(r->opaque, aligned, value, min);
        return;
    }
    if (size <= max) {
        r->ops->write(r->opaque, offset, value, size);
        return;
    }
    for (; done < size; done += max)
        r->ops->write(r->opaque, offset + done, (value >> (8 * done)) & mem_ones(max), max);
}

/* ---- ports ---- */

EMU_PRIV int port_add(struct emu *e, struct region *r, const char *name, uint16_t port, unsigned count, const struct region_ops *ops, void *opaque)
{
    region_init_io(r, name, ops, opaque, count);
    return region_add(e, &e->ports, r, port, 0);
}

static const struct map_range *mem_port_range(struct emu *e, uint16_t port)
{
    if (EMU_UNLIKELY(e->ports.dirty))
        mem_flatten(e, &e->ports);
    return &e->ports.ranges[e->ports.port_index[port]];
}

/* An access that leaves its region is made byte by byte: each byte finds its own owner (the PC's bus does so too). */
EMU_PRIV uint64_t port_read(struct emu *e, uint16_t port, unsigned size)
{
    struct region *r = mem_port_range(e, port)->rd;
    if (r && port - r->base + size <= r->size)
        return mem_io_read(r, port - r->base, size);
    if (size > 1) {
        uint64_t value = 0;
        unsigned i;
        for (i = 0; i < size; i++)
            value |= port_read(e, (uint16_t)(port + i), 1) << (8 * i);
        return value;
    }
    emu_log(e, LOG_UNIMP, "port %#x: read, nobody there", port);
    return mem_ones(size);
}

EMU_PRIV void port_write(struct emu *e, uint16_t port, uint64_t value, unsigned size)
{
    struct region *r = mem_port_range(e, port)->wr;
    if (r && port - r->base + size <= r->size) {
        mem_io_write(r, port - r->base, value, size);
    } else if (size > 1) {
        unsigned i;
        for (i = 0; i < size; i++)
            port_write(e, (uint16_t)(port + i), (value >> (8 * i)) & 0xFF, 1);
    } else {
        emu_log(e, LOG_UNIMP, "port %#x: %#" PRIx64 " written, nobody there", port, value);
    }
}

/* ---- memory ---- */

EMU_PRIV void mem_resolve(struct emu *e, uint64_t gpa, struct phys_page *out)
{
    uint64_t page = gpa & ~(MEM_PAGE - 1);
    const struct map_range *m = mem_find(e, &e->memory, page);
    memset(out, 0, sizeof *out);
    out->rd = m->rd;
    out->wr = m->wr;
    out->partial = m->end != 0 && m->end - page < MEM_PAGE;
    if (m->rd && m->rd->kind == REGION_RAM && !out->partial) {
        out->block = m->rd->block;
        out->block_offset = m->rd->block_offset + (page - m->rd->base);
        if (out->block_offset & (MEM_PAGE - 1)) { /* a window that is not page-aligned in its block */
            out->partial = true;
            out->block = NULL;
            return;
        }
        out->host = out->block->bytes + out->block_offset;
        out->writable_direct = m->wr && m->wr->kind == REGION_RAM && m->wr->block == out->block && !out->block->rom &&
                               m->wr->block_offset + (page - m->wr->base) == out->block_offset;
    }
}

EMU_PRIV void mem_written(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size)
{
    uint64_t page = offset / MEM_PAGE, last;
    if (!size || offset >= b->size_bytes)
        return;
    last = (EMU_MIN(offset + size, b->size_bytes) - 1) / MEM_PAGE;
    for (; page <= last; page++) {
        uint8_t flags = b->page_flags[page];
        if (EMU_UNLIKELY(flags & (PAGE_HAS_CODE | PAGE_TRACKED))) {
            if (flags & PAGE_TRACKED)
                b->page_flags[page] = (uint8_t)((flags & ~PAGE_TRACKED) | PAGE_DIRTY);
            if ((flags & PAGE_HAS_CODE) && e->on_code_write) {
                uint64_t from = EMU_MAX(offset, page * MEM_PAGE), to = EMU_MIN(offset + size, (page + 1) * MEM_PAGE);
                e->on_code_write(e, b, from, to - from);
            }
        }
    }
}

EMU_PRIV void mem_track_dirty(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size)
{
    uint64_t page = offset / MEM_PAGE, end = EMU_MIN(offset + size + MEM_PAGE - 1, b->size_bytes) / MEM_PAGE;
    bool changed = false;
    for (; page < end; page++)
        if (!(b->page_flags[page] & PAGE_TRACKED)) {
            b->page_flags[page] = (uint8_t)((b->page_flags[page] & ~PAGE_DIRTY) | PAGE_TRACKED);
            changed = true;
        }
    if (changed && e->on_map_change) /* cached write mappings of these pages must go */
        e->on_map_change(e);
}

/* Bytes of [gpa, gpa+size) that lie in one range. */
static size_t mem_span(const struct map_range *m, uint64_t gpa, size_t size)
{
    return m->end && m->end - gpa < size ? (size_t)(m->end - gpa) : size;
}

/* Largest naturally aligned access that fits. */
static unsigned mem_io_chunk(uint64_t gpa, size_t size)
{
    unsigned n = 8;
    while (n > size || (gpa & (n - 1)))
        n /= 2;
    return n;
}

EMU_PRIV void mem_read(struct emu *e, uint64_t gpa, void *buf, size_t size)
{
    uint8_t *p = buf;
    while (size) {
        const struct map_range *m = mem_find(e, &e->memory, gpa);
        size_t n = mem_span(m, gpa, size);
        if (!m->rd) {
            memset(p, 0xFF, n);
        } else if (m->rd->kind == REGION_RAM) {
            memcpy(p, m->rd->block->bytes + m->rd->block_offset + (gpa - m->rd->base), n);
        } else {
            n = mem_io_chunk(gpa, n);
            stn_le(p, mem_io_read(m->rd, gpa - m->rd->base, (unsigned)n), (unsigned)n);
        }
        p += n;
        gpa += n;
        size -= n;
    }
}

EMU_PRIV void mem_write(struct emu *e, uint64_t gpa, const void *buf, size_t size)
{
    const uint8_t *p = buf;
    while (size) {
        const struct map_range *m = mem_find(e, &e->memory, gpa);
        size_t n = mem_span(m, gpa, size);
        struct region *r = m->wr;
        if (r && r->kind == REGION_RAM) {
            if (!r->block->rom) {
                uint64_t offset = r->block_offset + (gpa - r->base);
                memcpy(r->block->bytes + offset, p, n);
                mem_written(e, r->block, offset, n);
            }
        } else if (r) {
            n = mem_io_chunk(gpa, n);
            mem_io_write(r, gpa - r->base, ldn_le(p, (unsigned)n), (unsigned)n);
        }
        p += n;
        gpa += n;
        size -= n;
    }
}

EMU_PRIV uint64_t mem_ld(struct emu *e, uint64_t gpa, unsigned size)
{
    const struct map_range *m = mem_find(e, &e->memory, gpa);
    uint8_t bytes[8];
    if (mem_span(m, gpa, size) == size) {
        if (!m->rd)
            return mem_ones(size);
        if (m->rd->kind == REGION_RAM)
            return ldn_le(m->rd->block->bytes + m->rd->block_offset + (gpa - m->rd->base), size);
        return mem_io_read(m->rd, gpa - m->rd->base, size);
    }
    mem_read(e, gpa, bytes, size);
    return ldn_le(bytes, size);
}

EMU_PRIV void mem_st(struct emu *e, uint64_t gpa, uint64_t value, unsigned size)
{
    const struct map_range *m = mem_find(e, &e->memory, gpa);
    uint8_t bytes[8];
    if (m->wr && m->wr->kind == REGION_IO && mem_span(m, gpa, size) == size) {
        mem_io_write(m->wr, gpa - m->wr->base, value, size);
        return;
    }
    stn_le(bytes, value, size);
    mem_write(e, gpa, bytes, size);
}

EMU_PRIV uint8_t *mem_host(struct emu *e, uint64_t gpa, uint64_t *size, bool write)
{
    const struct map_range *m = mem_find(e, &e->memory, gpa);
    struct region *r = write ? m->wr : m->rd;
    uint64_t left;
    if (!r || r->kind != REGION_RAM || (write && r->block->rom))
        return NULL;
    left = m->end ? m->end - gpa : r->base + r->size - gpa;
    if (*size > left)
        *size = left;
    return r->block->bytes + r->block_offset + (gpa - r->base);
}

EMU_PRIV bool mem_is_ram(struct emu *e, uint64_t gpa, uint64_t size)
{
    while (size) {
        uint64_t n = size;
        if (gpa + size < gpa || !mem_host(e, gpa, &n, true) || !mem_host(e, gpa, &n, false))
            return false;
        gpa += n;
        size -= n;
    }
    return true;
}

EMU_PRIV int mem_load(struct emu *e, uint64_t gpa, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        uint64_t n = size;
        const struct map_range *m = mem_find(e, &e->memory, gpa);
        uint8_t *to = mem_host(e, gpa, &n, false);
        if (!to)
            return EMU_EFAULT;
        memcpy(to, p, (size_t)n);
        mem_written(e, m->rd->block, m->rd->block_offset + (gpa - m->rd->base), n);
        p += n;
        gpa += n;
        size -= (size_t)n;
    }
    return 0;
}

EMU_PRIV void mem_print_map(struct emu *e, struct buf *out)
{
    struct map *maps[2];
    unsigned k;
    maps[0] = &e->memory;
    maps[1] = &e->ports;
    for (k = 0; k < 2; k++) {
        size_t i;
        if (maps[k]->dirty)
            mem_flatten(e, maps[k]);
        buf_printf(out, "%s:\n", k ? "ports" : "memory");
        for (i = 0; i < maps[k]->range_count; i++) {
            const struct map_range *m = &maps[k]->ranges[i];
            if (!m->rd && !m->wr)
                continue;
            buf_printf(out, k ? "  %04" PRIx64 "-%04" PRIx64 " %s" : "  %016" PRIx64 "-%016" PRIx64 " %s", m->start, m->end - 1,
                       m->rd ? m->rd->name : "(none)");
            if (m->wr != m->rd)
                buf_printf(out, ", writes: %s", m->wr ? m->wr->name : "(none)");
            buf_printf(out, "\n");
        }
    }
}

EMU_PRIV int memory_create(struct emu *e, struct err *err)
{
    e->a20_mask = UINT64_MAX;
    e->memory.dirty = e->ports.dirty = true;
    e->ports.port_index = emu_alloc(e, MEM_PORTS * sizeof *e->ports.port_index);
    if (!e->ports.port_index)
        return err_set(err, EMU_ENOMEM, "out of memory");
    mem_flatten(e, &e->memory);
    mem_flatten(e, &e->ports);
    if (!e->memory.range_count || !e->ports.range_count)
        return err_set(err, EMU_ENOMEM, "out of memory");
    return 0;
}

EMU_PRIV void memory_destroy(struct emu *e)
{
    unsigned i;
    for (i = 0; i < e->block_count; i++) {
        host_unmap_memory(e->blocks[i]->bytes, (size_t)e->blocks[i]->size_bytes);
        host_unmap_memory(e->blocks[i]->page_flags, (size_t)(e->blocks[i]->size_bytes / MEM_PAGE));
        emu_free(e, e->blocks[i]);
    }
    e->block_count = 0;
    emu_free(e, e->ports.port_index);
    emu_free(e, e->ports.ranges);
    emu_free(e, e->memory.ranges);
    memset(&e->ports, 0, sizeof e->ports);
    memset(&e->memory, 0, sizeof e->memory);
}
#undef MEM_PAGE
#undef MEM_PORTS

/* ======================================== src/machine/loop.c ======================================== */

/* machine/loop.c - the run loop: CPUs, events, descriptors and requests take turns in one thread.
 *
 * Contract   front/api.c calls machine_run(); devices and the monitor raise requests; backends register watches and poll hooks.
 * Theory     Round: carry out requests - run due timers - look at descriptors if it is time - give each runnable CPU a quantum. The quantum ends
 *            at the next deadline (exactly under -icount; by the measured speed otherwise) or at the poll interval. When no CPU can
 *            run, the one blocking place of the program is the poll below, until the next deadline or descriptor.
 *            Under -icount idle time is skipped by moving virtual time to the next deadline; unless sleep=off it is not
 *            skipped faster than the host's clock passes, which changes no value the guest sees.
 *
 *            running --REQ_STOP--> paused --resume--> running      (loop_set_state)
 *            running --REQ_SHUTDOWN, reset with -no-reboot--> shutdown: machine_run returns, or paused with -no-shutdown
 * Invariants 1. current_cpu is NULL outside of cpu_run().
 *            2. A watch removed during a poll round is not called in that round.
 *            3. No sleep is longer than LOOP_MAX_SLEEP_NS, so that the clock's stall rule never takes sleep for a stall.
 */

#define LOOP_MAX_SLEEP_NS NS_PER_SEC
#define LOOP_POLL_ACTIVE_NS (200 * NS_PER_US)
#define LOOP_POLL_IDLE_NS (10 * NS_PER_MS)
#define LOOP_MIN_QUANTUM 1000
#define LOOP_MAX_QUANTUM 4000000
#define LOOP_SMP_QUANTUM 20000

/* ---- requests ---- */

EMU_PRIV void emu_request(struct emu *e, unsigned bits)
{
    e->requests |= bits;
    if (e->current_cpu)
        e->current_cpu->attention |= CPU_ATTENTION_REQUEST;
    if (e->wake_write != HOST_FD_NONE)
        host_wake(e->wake_write);
}

EMU_PRIV void emu_exit_with(struct emu *e, int status)
{
    e->exit_status = status;
    emu_request(e, REQ_EXIT);
}

static void loop_set_state(struct emu *e, enum run_state state)
{
    if (e->run_state == state)
        return;
    e->run_state = state;
    clock_freeze(e, state != RUN_STATE_RUNNING);
    if (e->on_run_state)
        e->on_run_state(e, state);
}

EMU_PRIV void machine_pause(struct emu *e) { loop_set_state(e, RUN_STATE_PAUSED); }

EMU_PRIV int machine_resume(struct emu *e)
{
    if (e->run_state == RUN_STATE_SHUTDOWN)
        return EMU_EINVAL;
    loop_set_state(e, RUN_STATE_RUNNING);
    return 0;
}

EMU_PRIV void machine_reset(struct emu *e)
{
    board_reset(e);
    if (e->run_state == RUN_STATE_SHUTDOWN)
        loop_set_state(e, RUN_STATE_PAUSED);
}

/* Carries out what was asked for. true: machine_run() is to return *reason. */
static bool loop_handle_requests(struct emu *e, int *reason)
{
    unsigned r = e->requests;
    if (!r)
        return false;
    e->requests &= ~r;
    if (r & REQ_EXIT) {
        *reason = EMU_REASON_EXIT;
        return true;
    }
    if ((r & REQ_RESET) && e->config.no_reboot)
        r = (r & ~(unsigned)REQ_RESET) | REQ_SHUTDOWN;
    if (r & REQ_SHUTDOWN) {
        if (!e->config.no_shutdown) {
            e->exit_status = 0;
            *reason = EMU_REASON_EXIT;
            loop_set_state(e, RUN_STATE_SHUTDOWN);
            return true;
        }
        loop_set_state(e, RUN_STATE_SHUTDOWN);
    }
    if (r & REQ_RESET)
        machine_reset(e);
    if (r & REQ_POWERDOWN)
        acpi_power_button(e);
    if (r & REQ_STOP)
        machine_pause(e);
    if (r & REQ_EMBEDDER) {
        *reason = EMU_REASON_STOPPED;
        return true;
    }
    return false;
}

/* ---- descriptors ---- */

EMU_PRIV void watch_add(struct emu *e, struct watch *w, host_fd fd, unsigned want, void (*ready)(void *, unsigned), void *opaque)
{
    w->fd = fd;
    w->want = (uint8_t)want;
    w->ready = ready;
    w->opaque = opaque;
    w->removed = false;
    w->next = e->watches;
    w->link = &e->watches;
    if (e->watches)
        e->watches->link = &w->next;
    e->watches = w;
    e->watch_count++;
}

EMU_PRIV void watch_remove(struct emu *e, struct watch *w)
{
    size_t i;
    if (!w->link)
        return;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
    w->removed = true;
    e->watch_count--;
    for (i = 0; i < e->poll_count; i++) /* invariant 2 */
        if (e->poll_watches[i] == w)
            e->poll_watches[i] = NULL;
}

EMU_PRIV void poll_hook_add(struct emu *e, struct poll_hook *h)
{
    h->next = e->poll_hooks;
    e->poll_hooks = h;
}

EMU_PRIV void poll_hook_remove(struct emu *e, struct poll_hook *h)
{
    struct poll_hook **p;
    for (p = &e->poll_hooks; *p; p = &(*p)->next)
        if (*p == h) {
            *p = h->next;
            return;
        }
}

EMU_PRIV void emu_poll_now(struct emu *e) { e->poll_interval_ns = LOOP_POLL_ACTIVE_NS; }

/* Grows the arrays that a poll round fills; false: out of memory, the round is skipped. */
static bool loop_poll_room(struct emu *e, size_t count)
{
    struct host_poll_item *items;
    struct watch **watches;
    if (count <= e->poll_capacity)
        return true;
    count = count * 2 + 16;
    items = emu_realloc(e, e->poll_items, count * sizeof *items);
    if (items)
        e->poll_items = items;
    watches = emu_realloc(e, e->poll_watches, count * sizeof *watches);
    if (watches)
        e->poll_watches = watches;
    if (!items || !watches)
        return false;
    e->poll_capacity = count;
    return true;
}

/* One look at all descriptors, waiting up to timeout_ns, and the callbacks of those that are ready. */
static void loop_poll(struct emu *e, int64_t timeout_ns)
{
    struct watch *w;
    struct poll_hook *h, *next;
    size_t i, n = 0;
    int ready;
    if (loop_poll_room(e, e->watch_count + 1)) {
        if (e->wake_read != HOST_FD_NONE) {
            e->poll_items[n].fd = e->wake_read;
            e->poll_items[n].want = HOST_READ;
            e->poll_watches[n++] = NULL;
        }
        for (w = e->watches; w; w = w->next)
            if (w->want) {
                e->poll_items[n].fd = w->fd;
                e->poll_items[n].want = w->want;
                e->poll_watches[n++] = w;
            }
    }
    for (i = 0; i < n; i++)
        e->poll_items[i].ready = 0;
    e->poll_count = n;
    ready = host_poll(e->poll_items, n, e->requests ? 0 : timeout_ns);
    if (ready > 0) {
        if (n && e->wake_read != HOST_FD_NONE && e->poll_items[0].ready)
            host_wake_drain(e->wake_read);
        for (i = 0; i < e->poll_count; i++) {
            w = e->poll_watches[i];
            if (w && e->poll_items[i].ready)
                w->ready(w->opaque, e->poll_items[i].ready);
        }
        e->poll_interval_ns = LOOP_POLL_ACTIVE_NS;
    } else if (e->poll_interval_ns < LOOP_POLL_IDLE_NS) {
        e->poll_interval_ns += e->poll_interval_ns / 4;
    }
    e->poll_count = 0;
    for (h = e->poll_hooks; h; h = next) {
        next = h->next;
        h->fn(h->opaque);
    }
    e->next_poll_host_ns = host_clock_ns() + e->poll_interval_ns;
}

/* ---- CPUs ---- */

static bool loop_any_cpu_runs(struct emu *e)
{
    unsigned i;
    for (i = 0; i < e->cpu_count; i++)
        if (cpu_can_run(e->cpus[i]))
            return true;
    return false;
}

/* Instructions until the next thing that the loop must do. */
static int64_t loop_budget(struct emu *e, int64_t insns_left)
{
    int64_t left_ns = clock_next_deadline(e), now = emu_now_ns(e), budget;
    left_ns = left_ns <= now ? 0 : left_ns - now;
    if (e->config.icount) {
        budget = LOOP_MAX_QUANTUM;
        if (left_ns >> e->config.icount_shift < budget)
            budget = (left_ns + (INT64_C(1) << e->config.icount_shift) - 1) >> e->config.icount_shift;
        if (budget < 1)
            budget = 1;
    } else {
        int64_t poll_ns = e->next_poll_host_ns - host_clock_ns();
        if (left_ns > poll_ns)
            left_ns = poll_ns;
        if (left_ns < 0)
            left_ns = 0;
        budget = left_ns > 100 * NS_PER_MS ? LOOP_MAX_QUANTUM : (int64_t)((uint64_t)left_ns * e->insns_per_us / 1000);
        budget = EMU_MAX(budget, LOOP_MIN_QUANTUM);
        budget = EMU_MIN(budget, LOOP_MAX_QUANTUM);
    }
    if (e->cpu_count > 1)
        budget = EMU_MIN(budget, LOOP_SMP_QUANTUM);
    if (insns_left >= 0 && budget > insns_left)
        budget = insns_left;
    return budget;
}

static enum cpu_exit loop_enter_cpu(struct emu *e, struct cpu *c, int64_t budget)
{
    enum cpu_exit why;
    e->current_cpu = c;
    e->insn_at_entry = c->icount;
    why = cpu_run(c, budget);
    e->current_cpu = NULL;
    e->insn_total += c->icount - e->insn_at_entry;
    return why;
}

EMU_PRIV void machine_step(struct emu *e, struct cpu *c)
{
    clock_freeze(e, false);
    clock_run_timers(e);
    e->current_cpu = c;
    e->insn_at_entry = c->icount;
    if (cpu_step(c) == CPU_EXIT_SHUTDOWN)
        emu_request(e, REQ_RESET);
    e->current_cpu = NULL;
    e->insn_total += c->icount - e->insn_at_entry;
    clock_freeze(e, e->run_state != RUN_STATE_RUNNING);
}

/* One quantum of each CPU. Keeps the estimate of host speed. */
static void loop_run_cpus(struct emu *e, int64_t insns_left)
{
    unsigned i;
    for (i = 0; i < e->cpu_count && !e->requests; i++) {
        struct cpu *c = e->cpus[(e->next_cpu + i) % e->cpu_count];
        int64_t budget, host_ns = 0;
        uint64_t before = e->insn_total;
        enum cpu_exit why;
        if (!cpu_can_run(c))
            continue;
        budget = loop_budget(e, insns_left);
        if (!budget)
            break;
        if (!e->config.icount)
            host_ns = host_clock_ns();
        why = loop_enter_cpu(e, c, budget);
        before = e->insn_total - before;
        if (insns_left >= 0)
            insns_left -= (int64_t)before;
        if (!e->config.icount && before > LOOP_MIN_QUANTUM / 2) {
            host_ns = host_clock_ns() - host_ns;
            if (host_ns > 0) {
                uint64_t speed = before * 1000 / (uint64_t)host_ns;
                e->insns_per_us = (e->insns_per_us * 7 + EMU_MAX(speed, (uint64_t)1)) / 8;
                e->insns_per_us = EMU_MAX(e->insns_per_us, (uint64_t)1);
            }
        }
        switch (why) {
        case CPU_EXIT_SHUTDOWN:
            emu_log(e, LOG_CPU_RESET, "Triple fault");
            emu_request(e, REQ_RESET);
            break;
        case CPU_EXIT_BREAKPOINT:
        case CPU_EXIT_WATCHPOINT:
            e->break_cpu = c->index;
            e->on_break_pending = true;
            machine_pause(e);
            e->on_break_pending = false;
            if (e->on_break)
                e->on_break(e, c, (int)why);
            return;
        default: break;
        }
    }
    if (e->cpu_count)
        e->next_cpu = (e->next_cpu + 1) % e->cpu_count;
}

/* Every CPU sleeps. Waits, or skips virtual time; false: the caller does not want to block. */
static bool loop_idle(struct emu *e, bool may_block, int64_t host_limit_ns)
{
    int64_t deadline = clock_next_deadline(e), wait, host_now = host_clock_ns();
    if (e->config.icount && deadline != INT64_MAX) {
        int64_t ahead = deadline - (host_now - e->clock_host_origin_ns);
        if (!e->config.icount_auto_sleep || ahead <= 0) {
            clock_warp_to(e, deadline);
            if (host_now >= e->next_poll_host_ns)
                loop_poll(e, 0);
            return true;
        }
        wait = ahead;
    } else {
        wait = deadline == INT64_MAX ? LOOP_MAX_SLEEP_NS : deadline - emu_now_ns(e);
    }
    if (wait <= 0)
        return true;
    if (!may_block)
        return false;
    wait = EMU_MIN(wait, LOOP_MAX_SLEEP_NS);
    if (host_limit_ns != INT64_MAX)
        wait = EMU_MIN(wait, EMU_MAX(host_limit_ns - host_now, 0));
    loop_poll(e, wait);
    return true;
}

EMU_PRIV int machine_run(struct emu *e, int64_t max_host_ns, int64_t max_insns, bool may_block)
{
    int64_t host_limit_ns = max_host_ns < 0 ? INT64_MAX : host_clock_ns() + max_host_ns;
    uint64_t insns_before = e->insn_total;
    int reason = 0;
    if (!e->insns_per_us)
        e->insns_per_us = 200;
    if (!e->poll_interval_ns)
        e->poll_interval_ns = LOOP_POLL_ACTIVE_NS;
    for (;;) {
        int64_t left = max_insns < 0 ? -1 : max_insns - (int64_t)(e->insn_total - insns_before);
        int64_t host_now;
        if (e->requests && loop_handle_requests(e, &reason))
            return reason;
        if (!left)
            return EMU_REASON_INSNS;
        host_now = host_clock_ns();
        if (host_now >= host_limit_ns)
            return EMU_REASON_TIME;
        if (e->run_state != RUN_STATE_RUNNING) {
            if (!may_block) {
                loop_poll(e, 0);
                if (!e->requests && e->run_state != RUN_STATE_RUNNING)
                    return EMU_REASON_PAUSED;
                continue;
            }
            loop_poll(e, host_limit_ns == INT64_MAX ? LOOP_MAX_SLEEP_NS : EMU_MIN(LOOP_MAX_SLEEP_NS, host_limit_ns - host_now));
            continue;
        }
        clock_run_timers(e);
        if (host_now >= e->next_poll_host_ns)
            loop_poll(e, 0);
        if (e->requests || e->run_state != RUN_STATE_RUNNING)
            continue;
        if (loop_any_cpu_runs(e))
            loop_run_cpus(e, left);
        else if (!loop_idle(e, may_block, host_limit_ns))
            return EMU_REASON_IDLE;
    }
}

EMU_PRIV int loop_create(struct emu *e)
{
    e->wake_read = e->wake_write = HOST_FD_NONE;
    if (host_wake_create(&e->wake_read, &e->wake_write) < 0)
        e->wake_read = e->wake_write = HOST_FD_NONE; /* a host without pipes: requests wait for the next sleep's end */
    return 0;
}

EMU_PRIV void loop_destroy(struct emu *e)
{
    if (e->wake_read != HOST_FD_NONE)
        host_fd_close(e->wake_read);
    if (e->wake_write != HOST_FD_NONE)
        host_fd_close(e->wake_write);
    emu_free(e, e->poll_items);
    emu_free(e, e->poll_watches);
}
#undef LOOP_MAX_SLEEP_NS
#undef LOOP_POLL_ACTIVE_NS
#undef LOOP_POLL_IDLE_NS
#undef LOOP_MIN_QUANTUM
#undef LOOP_MAX_QUANTUM
#undef LOOP_SMP_QUANTUM

/* ======================================== src/host/posix.c ======================================== */

/* host/posix.c - what emu asks of a POSIX host: Linux, the BSDs, macOS.
 *
 * Models     POSIX.1-2008 (clocks, pread, poll, sockets, termios, ptys); Linux OFD locks, tap and sparse files behind their ifdefs.
 * Contract   Implements host.h. Nothing above it includes a system header.
 * Theory     Every call translates one request and one errno. Descriptors that can stall are made non-blocking when they are
 *            opened; those that emu inherited (stdin, stdout) are left as they are, since their flags belong to the shell too, and
 *            a second description of the same terminal or pipe is opened for our use. SIGPIPE is kept away per call: MSG_NOSIGNAL or
 *            SO_NOSIGPIPE on sockets, a blocked and then collected signal elsewhere; an embedder's handlers are never touched.
 *            Image locks are open-file-description locks on the bytes that QEMU uses: byte 100+n says "I need permission n", byte
 *            200+n "nobody else may have permission n"; 0 reads consistently, 1 writes, 3 resizes.
 * Invariants 1. Every descriptor is close-on-exec.
 *            2. The terminal's settings are those emu found, whenever emu is not running.
 *            3. The one mutable object is posix_process: terminal and signals belong to the process, not to a machine.
 * Missing    epoll and kqueue: poll is enough up to some hundred flows.
 */

#ifdef EMU_HOST_POSIX

/* Register names that the C library's <sys/ucontext.h> takes from the plain name space; cpu.h has its own. */
#define REG_R8 posix_sys_r8
#define REG_R9 posix_sys_r9
#define REG_R10 posix_sys_r10
#define REG_R11 posix_sys_r11
#define REG_R12 posix_sys_r12
#define REG_R13 posix_sys_r13
#define REG_R14 posix_sys_r14
#define REG_R15 posix_sys_r15
#define REG_RDI posix_sys_rdi
#define REG_RSI posix_sys_rsi
#define REG_RBP posix_sys_rbp
#define REG_RBX posix_sys_rbx
#define REG_RDX posix_sys_rdx
#define REG_RAX posix_sys_rax
#define REG_RCX posix_sys_rcx
#define REG_RSP posix_sys_rsp
#define option posix_sys_option /* <getopt.h>, which some <unistd.h> include */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#undef option
#undef REG_R8
#undef REG_R9
#undef REG_R10
#undef REG_R11
#undef REG_R12
#undef REG_R13
#undef REG_R14
#undef REG_R15
#undef REG_RDI
#undef REG_RSI
#undef REG_RBP
#undef REG_RBX
#undef REG_RDX
#undef REG_RAX
#undef REG_RCX
#undef REG_RSP

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#if !defined(MAP_ANONYMOUS) && defined(MAP_ANON)
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef O_CLOEXEC
#define O_CLOEXEC 0
#endif
#define POSIX_TCP_NODELAY 1 /* TCP_NODELAY everywhere; <netinet/tcp.h> would take names that net/ needs */
#define POSIX_POLL_ON_STACK 256

/* The process's own terminal and signal handlers. Set in host_terminal_raw() and host_on_signals() only. */
static struct {
    struct termios saved;
    volatile sig_atomic_t saved_valid, raw;
    bool exit_hooked;
    void (*volatile on_signal)(int kind);
} posix_process;

static int posix_error(int n)
{
    switch (n) {
    case 0: return 0;
    case EINVAL: case ENAMETOOLONG: case EPROTOTYPE: case EBADF: return EMU_EINVAL;
    case ENOMEM: case ENOBUFS: case EMFILE: case ENFILE: return EMU_ENOMEM;
    case ENOENT: case ENOTDIR: case ENXIO: case ENODEV: return EMU_ENOENT;
    case EACCES: case EPERM: return EMU_EACCES;
    case EBUSY: case ETXTBSY: return EMU_EBUSY;
    case ENOSPC: case EFBIG: case EDQUOT: return EMU_ENOSPC;
    case EROFS: return EMU_EROFS;
    case EOPNOTSUPP: case ENOSYS: case ENOTTY: case EAFNOSUPPORT: case EPROTONOSUPPORT: case ESPIPE: return EMU_ENOTSUP;
#if defined(ENOTSUP) && ENOTSUP != EOPNOTSUPP
    case ENOTSUP: return EMU_ENOTSUP;
#endif
    case EAGAIN: case EINPROGRESS: case EALREADY: return EMU_EAGAIN;
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK: return EMU_EAGAIN;
#endif
    case EPIPE: case ENOTCONN: case ESHUTDOWN: return EMU_EPIPE;
    case EEXIST: return EMU_EEXIST;
    case ECONNREFUSED: return EMU_ECONNREFUSED;
    case EHOSTUNREACH: case ENETUNREACH: case ENETDOWN: case EHOSTDOWN: case EADDRNOTAVAIL: return EMU_EUNREACH;
    case ETIMEDOUT: return EMU_ETIMEDOUT;
    case ECONNRESET: case ECONNABORTED: return EMU_ECONNRESET;
    case EMSGSIZE: return EMU_EMSGSIZE;
    case EADDRINUSE: return EMU_EADDRINUSE;
    case ERANGE: case EOVERFLOW: return EMU_ERANGE;
    default: return EMU_EIO;
    }
}

/* The last call failed: its errno as a code, and "what: reason" for the person. */
static int posix_fail(struct err *err, const char *what)
{
    int n = errno;
    return err_set(err, posix_error(n), "%s: %s", what, strerror(n));
}

static void posix_cloexec(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0)
        fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
}

/* ---- time and randomness ---- */

static int64_t posix_clock(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t))
        return 0;
    return (int64_t)t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

EMU_PRIV int64_t host_clock_ns(void) { return posix_clock(CLOCK_MONOTONIC); }
EMU_PRIV int64_t host_wall_ns(void) { return posix_clock(CLOCK_REALTIME); }

/* Days since 1970-01-01 of a proleptic Gregorian date (month 1-12). */
static int64_t posix_days(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

EMU_PRIV int64_t host_local_offset_s(int64_t wall_s)
{
    time_t t = (time_t)wall_s;
    struct tm tm;
    if (!localtime_r(&t, &tm))
        return 0;
    return posix_days((int64_t)tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday) * 86400 + tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec - wall_s;
}

EMU_PRIV void host_random(void *buf, size_t size)
{
    uint8_t *p = buf;
    size_t done = 0;
    uint64_t x;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && done < size) {
        ssize_t n = read(fd, p + done, size - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            break;
        if (n > 0)
            done += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
    x = (uint64_t)host_wall_ns() ^ ((uint64_t)host_clock_ns() << 20) ^ ((uint64_t)getpid() << 48);
    for (; done < size; done++) { /* splitmix64: only where there is no /dev/urandom */
        uint64_t z = x += UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        p[done] = (uint8_t)(z >> 33);
    }
}

/* ---- memory ---- */

EMU_PRIV void *host_map_memory(size_t size_bytes)
{
    void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (size_bytes >= 64 * MIB)
        madvise(p, size_bytes, MADV_HUGEPAGE);
#endif
    return p;
}

EMU_PRIV void host_unmap_memory(void *p, size_t size_bytes)
{
    if (p)
        munmap(p, size_bytes);
}

EMU_PRIV void host_discard_memory(void *p, size_t size_bytes)
{
    long page = sysconf(_SC_PAGESIZE);
    uintptr_t mask = (uintptr_t)(page > 0 ? page : 4096) - 1, start = (uintptr_t)p, end = start + size_bytes;
    uintptr_t first = (start + mask) & ~mask, last = end & ~mask;
    if (first >= last) {
        memset(p, 0, size_bytes);
        return;
    }
    memset(p, 0, first - start);
    memset((uint8_t *)p + (last - start), 0, end - last);
    if (mmap((uint8_t *)p + (first - start), last - first, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        memset((uint8_t *)p + (first - start), 0, last - first);
}

/* ---- files ---- */

struct host_file {
    int fd;
    bool writable, device, no_discard;
};

static struct host_file *posix_file_new(int fd, bool writable)
{
    struct host_file *f = calloc(1, sizeof *f);
    struct stat st;
    if (!f)
        return NULL;
    f->fd = fd;
    f->writable = writable;
    f->device = !fstat(fd, &st) && !S_ISREG(st.st_mode);
    return f;
}

EMU_PRIV int host_file_open(struct host_file **out, const char *path, int flags, struct err *err)
{
    struct stat st;
    int fd, mode = (flags & HOST_OPEN_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    *out = NULL;
    if (flags & HOST_OPEN_CREATE)
        mode |= O_CREAT;
    if (flags & HOST_OPEN_TRUNCATE)
        mode |= O_TRUNC;
    if (flags & HOST_OPEN_EXCLUSIVE)
        mode |= O_EXCL;
#ifdef O_DIRECT
    if (flags & HOST_OPEN_DIRECT)
        mode |= O_DIRECT;
#endif
    if (!(flags & HOST_OPEN_CREATE) && !stat(path, &st) && S_ISDIR(st.st_mode))
        return err_set(err, EMU_EINVAL, "%s: is a folder, not a file", path);
    do
        fd = open(path, mode, 0644);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return posix_fail(err, path);
    if (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode))) {
        close(fd);
        return err_set(err, EMU_EINVAL, "%s: is not a regular file or a disk device", path);
    }
    posix_cloexec(fd);
    *out = posix_file_new(fd, (flags & HOST_OPEN_WRITE) != 0);
    if (!*out) {
        close(fd);
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    }
    return 0;
}

EMU_PRIV int host_file_temp(struct host_file **out, struct err *err)
{
    const char *dir = getenv("TMPDIR");
    char name[1024];
    int fd;
    *out = NULL;
    if (!dir || !*dir || strlen(dir) > sizeof name - 32)
        dir = "/var/tmp";
    snprintf(name, sizeof name, "%s/emu.XXXXXX", dir);
    fd = mkstemp(name);
    if (fd < 0 && strcmp(dir, "/tmp")) {
        snprintf(name, sizeof name, "/tmp/emu.XXXXXX");
        fd = mkstemp(name);
    }
    if (fd < 0)
        return posix_fail(err, dir);
    unlink(name);
    posix_cloexec(fd);
    *out = posix_file_new(fd, true);
    if (!*out) {
        close(fd);
        return err_set(err, EMU_ENOMEM, "%s: out of memory", dir);
    }
    return 0;
}

EMU_PRIV void host_file_close(struct host_file *f)
{
    if (!f)
        return;
    close(f->fd);
    free(f);
}

EMU_PRIV int64_t host_file_size(struct host_file *f)
{
    struct stat st;
    off_t end;
    if (fstat(f->fd, &st))
        return posix_error(errno);
    if (S_ISREG(st.st_mode))
        return (int64_t)st.st_size;
    end = lseek(f->fd, 0, SEEK_END); /* Linux block devices; elsewhere devices may say 0 */
    return end < 0 ? posix_error(errno) : (int64_t)end;
}

static bool posix_range_ok(uint64_t offset, uint64_t size)
{
    return offset <= (uint64_t)INT64_MAX && size <= (uint64_t)INT64_MAX - offset && (uint64_t)(off_t)(offset + size) == offset + size;
}

EMU_PRIV int host_file_read(struct host_file *f, uint64_t offset, void *buf, size_t size)
{
    uint8_t *p = buf;
    if (!posix_range_ok(offset, size))
        return EMU_ERANGE;
    while (size) {
        ssize_t n = pread(f->fd, p, EMU_MIN(size, (size_t)1 << 30), (off_t)offset);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return posix_error(errno);
        }
        if (n == 0) {
            memset(p, 0, size);
            return 0;
        }
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

EMU_PRIV int host_file_write(struct host_file *f, uint64_t offset, const void *buf, size_t size)
{
    const uint8_t *p = buf;
    if (!posix_range_ok(offset, size))
        return EMU_ENOSPC;
    if (!f->writable)
        return EMU_EROFS;
    while (size) {
        ssize_t n = pwrite(f->fd, p, EMU_MIN(size, (size_t)1 << 30), (off_t)offset);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return posix_error(errno);
        }
        if (n == 0)
            return EMU_ENOSPC;
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

EMU_PRIV int host_file_flush(struct host_file *f)
{
    int r;
    if (!f->writable)
        return 0;
    do {
#if defined(F_FULLFSYNC)
        r = fcntl(f->fd, F_FULLFSYNC);
        if (r < 0 && errno != EINTR)
            r = fsync(f->fd);
#elif defined(_POSIX_SYNCHRONIZED_IO) && _POSIX_SYNCHRONIZED_IO > 0
        r = fdatasync(f->fd);
#else
        r = fsync(f->fd);
#endif
    } while (r < 0 && errno == EINTR);
    if (r < 0 && f->device && (errno == EINVAL || errno == ENOTSUP))
        return 0; /* character devices have nothing to flush */
    return r < 0 ? posix_error(errno) : 0;
}

EMU_PRIV int host_file_discard(struct host_file *f, uint64_t offset, uint64_t size)
{
#if defined(FALLOC_FL_PUNCH_HOLE) && defined(FALLOC_FL_KEEP_SIZE)
    int r;
    if (!f->writable || f->no_discard || !posix_range_ok(offset, size))
        return EMU_ENOTSUP;
    if (!size)
        return 0;
    do
        r = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
    while (r < 0 && errno == EINTR);
    if (!r)
        return 0;
    if (errno == ENOSPC || errno == EIO)
        return posix_error(errno);
    f->no_discard = true;
#else
    (void)f, (void)offset, (void)size;
#endif
    return EMU_ENOTSUP;
}

EMU_PRIV int host_file_resize(struct host_file *f, uint64_t size)
{
    int r;
    if (f->device)
        return EMU_ENOTSUP;
    if (!posix_range_ok(size, 0))
        return EMU_ENOSPC;
    do
        r = ftruncate(f->fd, (off_t)size);
    while (r < 0 && errno == EINTR);
    return r < 0 ? posix_error(errno) : 0;
}

EMU_PRIV int host_file_next_data(struct host_file *f, uint64_t offset, uint64_t *data_start, uint64_t *data_end)
{
#if defined(SEEK_DATA) && defined(SEEK_HOLE)
    off_t start, end;
    if (f->device || !posix_range_ok(offset, 0))
        return EMU_ENOTSUP;
    start = lseek(f->fd, (off_t)offset, SEEK_DATA);
    if (start < 0 && errno == ENXIO) { /* only a hole from here on */
        end = lseek(f->fd, 0, SEEK_END);
        if (end < 0)
            return EMU_ENOTSUP;
        *data_start = *data_end = EMU_MAX((uint64_t)end, offset);
        return 0;
    }
    if (start < 0 || (end = lseek(f->fd, start, SEEK_HOLE)) < 0)
        return EMU_ENOTSUP;
    *data_start = (uint64_t)start;
    *data_end = (uint64_t)end;
    return 0;
#else
    (void)f, (void)offset, (void)data_start, (void)data_end;
    return EMU_ENOTSUP;
#endif
}

#ifdef F_OFD_SETLK
enum { POSIX_LOCK_NEEDS = 100, POSIX_LOCK_FORBIDS = 200, POSIX_PERM_READ = 0, POSIX_PERM_WRITE = 1, POSIX_PERM_RESIZE = 3 };

static int posix_lock_byte(int fd, int cmd, int type, int byte)
{
    struct flock l;
    memset(&l, 0, sizeof l);
    l.l_type = (short)type;
    l.l_whence = SEEK_SET;
    l.l_start = byte;
    l.l_len = 1;
    if (fcntl(fd, cmd, &l) < 0)
        return errno == EAGAIN || errno == EACCES ? EMU_EBUSY : EMU_ENOTSUP;
    return cmd == F_OFD_GETLK && l.l_type != F_UNLCK ? EMU_EBUSY : 0;
}
#endif

EMU_PRIV int host_file_lock(struct host_file *f, bool exclusive)
{
#ifdef F_OFD_SETLK
    /* Reader: needs 0, forbids others 1 and 3. Writer: needs 1 and 3 as well. Then nobody may forbid what we need or need what we forbid. */
    static const int reader[] = { POSIX_LOCK_NEEDS + POSIX_PERM_READ, POSIX_LOCK_FORBIDS + POSIX_PERM_WRITE, POSIX_LOCK_FORBIDS + POSIX_PERM_RESIZE };
    static const int writer[] = { POSIX_LOCK_NEEDS + POSIX_PERM_WRITE, POSIX_LOCK_NEEDS + POSIX_PERM_RESIZE };
    static const int reader_check[] = { POSIX_LOCK_FORBIDS + POSIX_PERM_READ, POSIX_LOCK_NEEDS + POSIX_PERM_WRITE, POSIX_LOCK_NEEDS + POSIX_PERM_RESIZE };
    static const int writer_check[] = { POSIX_LOCK_FORBIDS + POSIX_PERM_WRITE, POSIX_LOCK_FORBIDS + POSIX_PERM_RESIZE };
    size_t i;
    int r = 0;
    for (i = 0; !r && i < EMU_ARRAY_LEN(reader); i++)
        r = posix_lock_byte(f->fd, F_OFD_SETLK, F_RDLCK, reader[i]);
    for (i = 0; !r && exclusive && i < EMU_ARRAY_LEN(writer); i++)
        r = posix_lock_byte(f->fd, F_OFD_SETLK, F_RDLCK, writer[i]);
    for (i = 0; !r && i < EMU_ARRAY_LEN(reader_check); i++)
        r = posix_lock_byte(f->fd, F_OFD_GETLK, F_WRLCK, reader_check[i]);
    for (i = 0; !r && exclusive && i < EMU_ARRAY_LEN(writer_check); i++)
        r = posix_lock_byte(f->fd, F_OFD_GETLK, F_WRLCK, writer_check[i]);
    if (r) /* leave no half-taken lock behind */
        for (i = 0; i < 8; i++) {
            posix_lock_byte(f->fd, F_OFD_SETLK, F_UNLCK, POSIX_LOCK_NEEDS + (int)i);
            posix_lock_byte(f->fd, F_OFD_SETLK, F_UNLCK, POSIX_LOCK_FORBIDS + (int)i);
        }
    return r;
#else
    struct flock l; /* among our own processes only, by whole-file record locks */
    memset(&l, 0, sizeof l);
    l.l_type = (short)(exclusive ? F_WRLCK : F_RDLCK);
    l.l_whence = SEEK_SET;
    if (fcntl(f->fd, F_SETLK, &l) < 0)
        return errno == EAGAIN || errno == EACCES ? EMU_EBUSY : EMU_ENOTSUP;
    return 0;
#endif
}

EMU_PRIV bool host_file_same(struct host_file *a, struct host_file *b)
{
    struct stat x, y;
    return !fstat(a->fd, &x) && !fstat(b->fd, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

EMU_PRIV bool host_file_is_device(struct host_file *f) { return f->device; }

EMU_PRIV int host_file_load(const char *path, uint8_t **data, size_t *size, size_t limit, struct err *err)
{
    struct stat st;
    uint8_t *p = NULL, *q;
    size_t n = 0, room = 0;
    int fd, r = 0;
    *data = NULL;
    *size = 0;
    if (!stat(path, &st) && S_ISDIR(st.st_mode))
        return err_set(err, EMU_EINVAL, "%s: is a folder, not a file", path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return posix_fail(err, path);
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size < SIZE_MAX - 1)
        room = EMU_MIN((size_t)st.st_size, limit) + 1;
    if (!room)
        room = EMU_MIN((size_t)65536, limit + 1);
    p = malloc(room);
    while (p) {
        ssize_t got = read(fd, p + n, room - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            r = posix_fail(err, path);
            break;
        }
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > limit) {
            r = err_set(err, EMU_ERANGE, "%s: is larger than %zu bytes", path, limit);
            break;
        }
        if (n == room) {
            room = EMU_MIN(room * 2, limit + 1);
            q = realloc(p, room);
            if (!q)
                free(p);
            p = q;
        }
    }
    close(fd);
    if (!p)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    if (r) {
        free(p);
        return r;
    }
    *data = p;
    *size = n;
    return 0;
}

EMU_PRIV int host_file_save(const char *path, const void *data, size_t size, struct err *err)
{
    const uint8_t *p = data;
    int r = 0, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
    if (fd < 0)
        return posix_fail(err, path);
    while (size && !r) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno != EINTR)
            r = posix_fail(err, path);
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
    if (close(fd) && !r)
        r = posix_fail(err, path);
    return r;
}

EMU_PRIV enum host_file_kind host_path_kind(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return HOST_KIND_NONE;
    if (S_ISREG(st.st_mode))
        return HOST_KIND_FILE;
    if (S_ISDIR(st.st_mode))
        return HOST_KIND_DIR;
    if (S_ISSOCK(st.st_mode))
        return HOST_KIND_SOCKET;
    if (S_ISCHR(st.st_mode))
        return HOST_KIND_CHAR;
    if (S_ISBLK(st.st_mode))
        return HOST_KIND_BLOCK;
    return HOST_KIND_OTHER;
}

EMU_PRIV int host_path_remove(const char *path) { return unlink(path) ? posix_error(errno) : 0; }

/* ---- readiness ---- */

static int posix_poll_call(struct pollfd *p, size_t count, int64_t timeout_ns)
{
#if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
    struct timespec t;
    if (timeout_ns >= 0) {
        t.tv_sec = (time_t)EMU_MIN(timeout_ns / NS_PER_SEC, (int64_t)1000000);
        t.tv_nsec = (long)(timeout_ns % NS_PER_SEC);
    }
    return ppoll(p, (nfds_t)count, timeout_ns < 0 ? NULL : &t, NULL);
#else
    int64_t ms = timeout_ns < 0 ? -1 : timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);
    return poll(p, (nfds_t)count, (int)EMU_MIN(ms, (int64_t)INT_MAX));
#endif
}

EMU_PRIV int host_poll(struct host_poll_item *items, size_t count, int64_t timeout_ns)
{
    struct pollfd on_stack[POSIX_POLL_ON_STACK], *p = on_stack;
    size_t i;
    int n, ready = 0;
    for (i = 0; i < count; i++)
        items[i].ready = 0;
    if (count > POSIX_POLL_ON_STACK) {
        p = malloc(count * sizeof *p);
        if (!p) { /* look at what fits; the others get their turn when memory is back */
            p = on_stack;
            count = POSIX_POLL_ON_STACK;
        }
    }
    for (i = 0; i < count; i++) {
        p[i].fd = items[i].want ? (int)items[i].fd : -1; /* a dormant descriptor may hang up without waking us */
        p[i].events = (short)((items[i].want & HOST_READ ? POLLIN : 0) | (items[i].want & HOST_WRITE ? POLLOUT : 0));
        p[i].revents = 0;
    }
    n = posix_poll_call(p, count, timeout_ns);
    for (i = 0; n > 0 && i < count; i++) {
        short got = p[i].revents;
        unsigned ready_bits = 0;
        if (!got)
            continue;
        if (got & POLLIN)
            ready_bits |= HOST_READ;
        if (got & POLLOUT)
            ready_bits |= HOST_WRITE;
        if (got & POLLHUP)
            ready_bits |= items[i].want; /* the call that follows finds out */
        if (got & (POLLERR | POLLNVAL))
            ready_bits |= HOST_ERROR | items[i].want;
        items[i].ready = (uint8_t)ready_bits;
        ready += ready_bits != 0;
    }
    if (p != on_stack)
        free(p);
    return ready;
}

EMU_PRIV int host_wake_create(host_fd *read_end, host_fd *write_end)
{
    int fds[2], i;
    if (pipe(fds))
        return posix_error(errno);
    for (i = 0; i < 2; i++) {
        posix_cloexec(fds[i]);
        host_fd_nonblocking(fds[i], true);
    }
    *read_end = fds[0];
    *write_end = fds[1];
    return 0;
}

EMU_PRIV void host_wake(host_fd write_end)
{
    int was = errno;
    if (write((int)write_end, "", 1) < 0) { /* full: it is awake already */
    }
    errno = was;
}

EMU_PRIV void host_wake_drain(host_fd read_end)
{
    char b[64];
    while (read((int)read_end, b, sizeof b) == (ssize_t)sizeof b) {
    }
}

/* ---- byte streams ---- */

EMU_PRIV int host_fd_nonblocking(host_fd fd, bool on)
{
    int flags = fcntl((int)fd, F_GETFL);
    if (flags < 0)
        return posix_error(errno);
    return fcntl((int)fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0 ? posix_error(errno) : 0;
}

EMU_PRIV int host_fd_read(host_fd fd, void *buf, size_t size)
{
    ssize_t n;
    do
        n = read((int)fd, buf, EMU_MIN(size, (size_t)INT_MAX));
    while (n < 0 && errno == EINTR);
    return n < 0 ? posix_error(errno) : (int)n;
}

/* A vectored write to something that is no socket, with SIGPIPE kept from the process. */
static ssize_t posix_write_quiet(int fd, const struct iovec *v, int count)
{
    sigset_t pipe_only, was, pending;
    struct stat st;
    ssize_t n;
    int saved, got;
    bool had;
    if (!fstat(fd, &st) && (S_ISCHR(st.st_mode) || S_ISREG(st.st_mode))) { /* a tap or a file: no peer that could be gone */
        do
            n = writev(fd, v, count);
        while (n < 0 && errno == EINTR);
        return n;
    }
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    had = sigismember(&pending, SIGPIPE) == 1;
    sigprocmask(SIG_BLOCK, &pipe_only, &was);
    do
        n = writev(fd, v, count);
    while (n < 0 && errno == EINTR);
    saved = errno;
    if (n < 0 && saved == EPIPE && !had) {
        sigpending(&pending);
        if (sigismember(&pending, SIGPIPE) == 1)
            sigwait(&pipe_only, &got);
    }
    sigprocmask(SIG_SETMASK, &was, NULL);
    errno = saved;
    return n;
}

static int posix_send(int fd, struct iovec *v, int count)
{
    struct msghdr m;
    ssize_t n;
    memset(&m, 0, sizeof m);
    m.msg_iov = v;
    m.msg_iovlen = (unsigned)count;
    do
        n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == ENOTSOCK)
        n = posix_write_quiet(fd, v, count);
    return n < 0 ? posix_error(errno) : (int)n;
}

EMU_PRIV int host_fd_write(host_fd fd, const void *buf, size_t size)
{
    struct iovec v;
    v.iov_base = (void *)(uintptr_t)buf;
    v.iov_len = EMU_MIN(size, (size_t)INT_MAX);
    return posix_send((int)fd, &v, 1);
}

EMU_PRIV void host_fd_close(host_fd fd)
{
    if (fd != HOST_FD_NONE)
        close((int)fd);
}

static void posix_make_raw(int fd)
{
    struct termios t;
    if (tcgetattr(fd, &t))
        return;
    t.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag &= ~(tcflag_t)OPOST;
    t.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    t.c_cflag = (t.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    tcsetattr(fd, TCSANOW, &t);
}

EMU_PRIV int host_open_stream(host_fd *out, const char *path, bool write, bool append, struct err *err)
{
    enum host_file_kind kind = host_path_kind(path);
    int fd, mode = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    *out = HOST_FD_NONE;
    if (kind == HOST_KIND_DIR)
        return err_set(err, EMU_EINVAL, "%s: is a folder, not a file", path);
    if (kind == HOST_KIND_CHAR || kind == HOST_KIND_OTHER) /* a fifo opened both ways waits for no peer and never ends */
        mode |= O_RDWR;
    else
        mode |= write ? O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC) : O_RDONLY;
    fd = open(path, mode, 0666);
    if (fd < 0 && (mode & O_ACCMODE) == O_RDWR && (errno == EACCES || errno == EPERM || errno == EROFS))
        fd = open(path, (mode & ~O_RDWR) | (write ? O_WRONLY : O_RDONLY));
    if (fd < 0)
        return posix_fail(err, path);
    posix_cloexec(fd);
    if (isatty(fd))
        posix_make_raw(fd);
    *out = fd;
    return 0;
}

EMU_PRIV int host_open_pty(host_fd *out, host_fd *keep, char *name, size_t name_size, struct err *err)
{
    const char *path;
    int slave, fd = posix_openpt(O_RDWR | O_NOCTTY);
    *out = *keep = HOST_FD_NONE;
    if (fd < 0)
        return posix_fail(err, "pty");
    posix_cloexec(fd);
    if (grantpt(fd) || unlockpt(fd) || !(path = ptsname(fd)) || (slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        int r = posix_fail(err, "pty");
        close(fd);
        return r;
    }
    posix_cloexec(slave);
    posix_make_raw(slave);
    snprintf(name, name_size, "%s", path);
    host_fd_nonblocking(fd, true);
    *out = fd;
    *keep = slave;
    return 0;
}

EMU_PRIV host_fd host_reopen_nonblocking(host_fd fd, bool write)
{
    struct stat st, again;
    char path[64];
    const char *name = NULL;
    int mine;
    if (fstat((int)fd, &st))
        return HOST_FD_NONE;
    if (isatty((int)fd)) {
        name = ttyname((int)fd);
    } else if (S_ISFIFO(st.st_mode)) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", (int)fd);
        name = path;
    }
    if (!name)
        return HOST_FD_NONE;
    mine = open(name, (write ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (mine < 0)
        return HOST_FD_NONE;
    if (fstat(mine, &again) || again.st_ino != st.st_ino || again.st_dev != st.st_dev) {
        close(mine);
        return HOST_FD_NONE;
    }
    posix_cloexec(mine);
    return mine;
}

/* The program is started by a child that ends at once, so that init collects it and no SIGCHLD reaches an embedder's handler late. */
EMU_PRIV int host_spawn(host_fd *out, long *pid, const char *const *argv, struct err *err)
{
    int s[2], report[2], failed = 0;
    struct {
        int error;
        long pid;
    } message;
    pid_t child;
    ssize_t n;
    *out = HOST_FD_NONE;
    *pid = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s))
        return posix_fail(err, argv[0]);
    if (pipe(report)) {
        close(s[0]);
        close(s[1]);
        return posix_fail(err, argv[0]);
    }
    posix_cloexec(s[0]);
    posix_cloexec(s[1]);
    posix_cloexec(report[0]);
    posix_cloexec(report[1]);
    child = fork();
    if (child == 0) {
        sigset_t none;
        pid_t grandchild = fork();
        memset(&message, 0, sizeof message);
        if (grandchild != 0) {
            message.error = grandchild < 0 ? errno : 0;
            message.pid = (long)grandchild;
            if (write(report[1], &message, sizeof message) < 0)
                _exit(126);
            _exit(0);
        }
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGINT, SIG_IGN); /* Ctrl-C on our terminal is for the guest */
        if (dup2(s[1], 0) >= 0 && dup2(s[1], 1) >= 0)
            execvp(argv[0], (char *const *)(uintptr_t)argv);
        message.error = errno;
        message.pid = -1;
        if (write(report[1], &message, sizeof message) < 0)
            _exit(126);
        _exit(127);
    }
    failed = child < 0 ? errno : 0;
    close(s[1]);
    close(report[1]);
    while (!failed && ((n = read(report[0], &message, sizeof message)) != 0)) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)sizeof message)
            failed = EIO;
        else if (message.error)
            failed = message.error;
        else
            *pid = message.pid;
    }
    close(report[0]);
    if (child > 0)
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
        }
    if (failed) {
        close(s[0]);
        errno = failed;
        return posix_fail(err, argv[0]);
    }
    host_fd_nonblocking(s[0], true);
    *out = s[0];
    return 0;
}

EMU_PRIV void host_reap(long pid) { (void)pid; /* init's task, see host_spawn */ }

/* ---- sockets ---- */

union posix_sockaddr {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

/* 0 for an address this host cannot express. */
static socklen_t posix_to_sockaddr(const struct host_addr *a, union posix_sockaddr *s)
{
    size_t n;
    memset(s, 0, sizeof *s);
    switch (a->family) {
    case HOST_INET:
        s->in.sin_family = AF_INET;
        st16be(&s->in.sin_port, a->port);
        memcpy(&s->in.sin_addr, a->ip, 4);
        return sizeof s->in;
    case HOST_INET6:
        s->in6.sin6_family = AF_INET6;
        st16be(&s->in6.sin6_port, a->port);
        memcpy(&s->in6.sin6_addr, a->ip, 16);
        s->in6.sin6_scope_id = a->scope_id;
        return sizeof s->in6;
    case HOST_UNIX:
        n = strlen(a->path);
        if (n >= sizeof s->un.sun_path)
            return 0;
        s->un.sun_family = AF_UNIX;
        memcpy(s->un.sun_path, a->path, n + 1);
        return sizeof s->un;
    default:
        return 0;
    }
}

static void posix_from_sockaddr(const union posix_sockaddr *s, socklen_t size, struct host_addr *a)
{
    memset(a, 0, sizeof *a);
    if (size < (socklen_t)offsetof(struct sockaddr, sa_data))
        return;
    if (s->any.sa_family == AF_INET) {
        a->family = HOST_INET;
        a->port = ld16be(&s->in.sin_port);
        memcpy(a->ip, &s->in.sin_addr, 4);
    } else if (s->any.sa_family == AF_INET6) {
        a->family = HOST_INET6;
        a->port = ld16be(&s->in6.sin6_port);
        memcpy(a->ip, &s->in6.sin6_addr, 16);
        a->scope_id = s->in6.sin6_scope_id;
    } else if (s->any.sa_family == AF_UNIX) {
        size_t n = size > (socklen_t)offsetof(struct sockaddr_un, sun_path) ? (size_t)size - offsetof(struct sockaddr_un, sun_path) : 0;
        a->family = HOST_UNIX;
        n = EMU_MIN(n, sizeof a->path - 1);
        memcpy(a->path, s->un.sun_path, n);
    }
}

static int posix_family(int family)
{
    return family == HOST_INET ? AF_INET : family == HOST_INET6 ? AF_INET6 : family == HOST_UNIX ? AF_UNIX : -1;
}

EMU_PRIV int host_resolve(const char *name, uint16_t port, struct host_addr *out, size_t max, struct err *err)
{
    struct addrinfo hints, *list = NULL, *a;
    size_t n = 0;
    int r;
    if (max && host_addr_parse(name, out)) {
        out->port = port;
        return 1;
    }
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    r = getaddrinfo(name, NULL, &hints, &list);
    if (r)
        return err_set(err, EMU_ENOENT, "%s: %s", name, gai_strerror(r));
    for (a = list; a && n < max; a = a->ai_next) {
        union posix_sockaddr s;
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof s)
            continue;
        memset(&s, 0, sizeof s);
        memcpy(&s, a->ai_addr, a->ai_addrlen);
        posix_from_sockaddr(&s, a->ai_addrlen, &out[n]);
        out[n++].port = port;
    }
    freeaddrinfo(list);
    return n ? (int)n : err_set(err, EMU_ENOENT, "%s: has no IP address", name);
}

EMU_PRIV bool host_addr_parse(const char *text, struct host_addr *out)
{
    char t[INET6_ADDRSTRLEN + IF_NAMESIZE + 4], *percent;
    size_t n = strlen(text);
    memset(out, 0, sizeof *out);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n >= sizeof t)
        return false;
    memcpy(t, text, n);
    t[n] = 0;
    if (inet_pton(AF_INET, t, out->ip) == 1) {
        out->family = HOST_INET;
        return true;
    }
    percent = strchr(t, '%');
    if (percent) {
        uint64_t number;
        *percent++ = 0;
        if (!parse_u64(percent, 0, UINT32_MAX, &number))
            out->scope_id = (uint32_t)number;
        else
            out->scope_id = if_nametoindex(percent);
        if (!out->scope_id)
            return false;
    }
    if (inet_pton(AF_INET6, t, out->ip) != 1)
        return false;
    out->family = HOST_INET6;
    return true;
}

EMU_PRIV void host_addr_format(const struct host_addr *a, char *buf, size_t size)
{
    char t[INET6_ADDRSTRLEN] = "?";
    if (a->family == HOST_UNIX) {
        snprintf(buf, size, "unix:%s", a->path);
    } else if (a->family == HOST_INET) {
        inet_ntop(AF_INET, a->ip, t, sizeof t);
        snprintf(buf, size, "%s:%u", t, a->port);
    } else if (a->family == HOST_INET6) {
        inet_ntop(AF_INET6, a->ip, t, sizeof t);
        snprintf(buf, size, "[%s]:%u", t, a->port);
    } else {
        snprintf(buf, size, "none");
    }
}

static void posix_socket_setup(int fd)
{
#ifdef SO_NOSIGPIPE
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one);
#endif
    posix_cloexec(fd);
    host_fd_nonblocking(fd, true);
}

EMU_PRIV int host_socket(host_fd *out, int family, int type)
{
    int fd, protocol = 0;
    *out = HOST_FD_NONE;
    if (posix_family(family) < 0)
        return EMU_EINVAL;
    if (type == HOST_PING)
        protocol = family == HOST_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    fd = socket(posix_family(family), type == HOST_STREAM ? SOCK_STREAM : SOCK_DGRAM, protocol);
    if (fd < 0)
        return posix_error(errno);
    posix_socket_setup(fd);
    *out = fd;
    return 0;
}

EMU_PRIV int host_bind(host_fd fd, const struct host_addr *a, bool reuse)
{
    union posix_sockaddr s;
    socklen_t n = posix_to_sockaddr(a, &s);
    int one = 1;
    if (!n)
        return EMU_EINVAL;
    if (reuse && a->family != HOST_UNIX)
        setsockopt((int)fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return bind((int)fd, &s.any, n) ? posix_error(errno) : 0;
}

EMU_PRIV int host_listen(host_fd fd, int backlog) { return listen((int)fd, backlog) ? posix_error(errno) : 0; }

EMU_PRIV int host_accept(host_fd fd, host_fd *out, struct host_addr *peer)
{
    union posix_sockaddr s;
    socklen_t n = sizeof s;
    int got;
    *out = HOST_FD_NONE;
    memset(&s, 0, sizeof s);
    do
        got = accept((int)fd, &s.any, &n);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == ECONNABORTED ? EMU_EAGAIN : posix_error(errno);
    posix_socket_setup(got);
    if (peer)
        posix_from_sockaddr(&s, n, peer);
    *out = got;
    return 0;
}

EMU_PRIV int host_connect(host_fd fd, const struct host_addr *a)
{
    union posix_sockaddr s;
    socklen_t n = posix_to_sockaddr(a, &s);
    if (!n)
        return EMU_EINVAL;
    if (!connect((int)fd, &s.any, n))
        return 0;
    if (errno == EAGAIN && a->family == HOST_UNIX) /* the listener's queue is full: nothing is under way */
        return EMU_ECONNREFUSED;
    return errno == EINTR ? EMU_EAGAIN : posix_error(errno);
}

EMU_PRIV int host_socket_error(host_fd fd)
{
    int n = 0;
    socklen_t size = sizeof n;
    if (getsockopt((int)fd, SOL_SOCKET, SO_ERROR, &n, &size))
        return posix_error(errno);
    return posix_error(n);
}

EMU_PRIV int host_local_addr(host_fd fd, struct host_addr *a)
{
    union posix_sockaddr s;
    socklen_t n = sizeof s;
    memset(&s, 0, sizeof s);
    if (getsockname((int)fd, &s.any, &n))
        return posix_error(errno);
    posix_from_sockaddr(&s, n, a);
    return 0;
}

EMU_PRIV int host_peer_addr(host_fd fd, struct host_addr *a)
{
    union posix_sockaddr s;
    socklen_t n = sizeof s;
    memset(&s, 0, sizeof s);
    if (getpeername((int)fd, &s.any, &n))
        return posix_error(errno);
    posix_from_sockaddr(&s, n, a);
    return 0;
}

EMU_PRIV int host_shutdown_write(host_fd fd) { return shutdown((int)fd, SHUT_WR) ? posix_error(errno) : 0; }

EMU_PRIV int host_send_to(host_fd fd, const void *buf, size_t size, const struct host_addr *to)
{
    union posix_sockaddr s;
    socklen_t n = 0;
    ssize_t r;
    if (to && !(n = posix_to_sockaddr(to, &s)))
        return EMU_EINVAL;
    do
        r = sendto((int)fd, buf, EMU_MIN(size, (size_t)INT_MAX), MSG_NOSIGNAL, to ? &s.any : NULL, n);
    while (r < 0 && errno == EINTR);
    return r < 0 ? (errno == ENOBUFS ? EMU_EAGAIN : posix_error(errno)) : (int)r;
}

EMU_PRIV int host_recv_from(host_fd fd, void *buf, size_t size, struct host_addr *from)
{
    union posix_sockaddr s;
    socklen_t n = sizeof s;
    ssize_t r;
    memset(&s, 0, sizeof s);
    do
        r = recvfrom((int)fd, buf, EMU_MIN(size, (size_t)INT_MAX), 0, &s.any, &n);
    while (r < 0 && errno == EINTR);
    if (r >= 0 && from)
        posix_from_sockaddr(&s, n, from);
    return r < 0 ? posix_error(errno) : (int)r;
}

#define POSIX_IOV_MAX 64
static int posix_iov(struct iovec *v, const struct host_iov *iov, int count)
{
    int i;
    count = EMU_MIN(count, POSIX_IOV_MAX);
    for (i = 0; i < count; i++) {
        v[i].iov_base = iov[i].base;
        v[i].iov_len = iov[i].size;
    }
    return count;
}

EMU_PRIV int host_readv(host_fd fd, const struct host_iov *iov, int count)
{
    struct iovec v[POSIX_IOV_MAX];
    ssize_t n;
    count = posix_iov(v, iov, count);
    do
        n = readv((int)fd, v, count);
    while (n < 0 && errno == EINTR);
    return n < 0 ? posix_error(errno) : (int)n;
}

EMU_PRIV int host_writev(host_fd fd, const struct host_iov *iov, int count)
{
    struct iovec v[POSIX_IOV_MAX];
    count = posix_iov(v, iov, count);
    return posix_send((int)fd, v, count);
}
#undef POSIX_IOV_MAX

EMU_PRIV int host_set_option(host_fd fd, int option, int value)
{
    int level = SOL_SOCKET, name, r;
    struct host_addr a;
    struct linger linger;
    switch (option) {
    case HOST_OPT_NODELAY: level = IPPROTO_TCP; name = POSIX_TCP_NODELAY; break;
    case HOST_OPT_KEEPALIVE: name = SO_KEEPALIVE; break;
    case HOST_OPT_SNDBUF: name = SO_SNDBUF; break;
    case HOST_OPT_RCVBUF: name = SO_RCVBUF; break;
    case HOST_OPT_BROADCAST: name = SO_BROADCAST; break;
    case HOST_OPT_OOBINLINE: name = SO_OOBINLINE; break;
    case HOST_OPT_V6ONLY: level = IPPROTO_IPV6; name = IPV6_V6ONLY; break;
    case HOST_OPT_LINGER0:
        linger.l_onoff = value != 0;
        linger.l_linger = 0;
        return setsockopt((int)fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) ? posix_error(errno) : 0;
    case HOST_OPT_TTL:
    case HOST_OPT_RECVERR:
        r = host_local_addr(fd, &a);
        if (r)
            return r;
        level = a.family == HOST_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
        if (option == HOST_OPT_TTL) {
            name = a.family == HOST_INET6 ? IPV6_UNICAST_HOPS : IP_TTL;
            break;
        }
#if defined(IP_RECVERR) && defined(IPV6_RECVERR)
        name = a.family == HOST_INET6 ? IPV6_RECVERR : IP_RECVERR;
        break;
#else
        return EMU_ENOTSUP;
#endif
    default: return EMU_EINVAL;
    }
    return setsockopt((int)fd, level, name, &value, sizeof value) ? posix_error(errno) : 0;
}

EMU_PRIV int host_join_multicast(host_fd fd, const struct host_addr *group, const struct host_addr *local)
{
    if (group->family == HOST_INET) {
        struct ip_mreq m;
        unsigned char loop = 1;
        memset(&m, 0, sizeof m);
        memcpy(&m.imr_multiaddr, group->ip, 4);
        if (local && local->family == HOST_INET)
            memcpy(&m.imr_interface, local->ip, 4);
        if (setsockopt((int)fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof m))
            return posix_error(errno);
        setsockopt((int)fd, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof loop);
        if (local && local->family == HOST_INET && setsockopt((int)fd, IPPROTO_IP, IP_MULTICAST_IF, &m.imr_interface, sizeof m.imr_interface))
            return posix_error(errno);
        return 0;
    }
    if (group->family == HOST_INET6) {
        struct ipv6_mreq m;
        memset(&m, 0, sizeof m);
        memcpy(&m.ipv6mr_multiaddr, group->ip, 16);
        m.ipv6mr_interface = group->scope_id;
        return setsockopt((int)fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m, sizeof m) ? posix_error(errno) : 0;
    }
    return EMU_EINVAL;
}

/* resolv.conf(5): lines "nameserver ADDRESS". */
EMU_PRIV int host_resolvers(struct host_addr *out, size_t max, int64_t *changed)
{
    static const char path[] = "/etc/resolv.conf";
    struct stat st;
    char line[256];
    size_t n = 0;
    FILE *f = fopen(path, "r");
    if (changed)
        *changed = stat(path, &st) ? -1 : (int64_t)st.st_mtime * 1000003 + (int64_t)st.st_size + (int64_t)st.st_ino;
    if (!f)
        return 0;
    while (n < max && fgets(line, sizeof line, f)) {
        char *p = line, *end;
        while (*p == ' ' || *p == '\t')
            p++;
        if (strncmp(p, "nameserver", 10) || (p[10] != ' ' && p[10] != '\t'))
            continue;
        p += 10;
        while (*p == ' ' || *p == '\t')
            p++;
        for (end = p; *end && *end != ' ' && *end != '\t' && *end != '\n' && *end != '\r' && *end != '#'; end++) {
        }
        *end = 0;
        if (host_addr_parse(p, &out[n]))
            out[n++].port = 53;
    }
    fclose(f);
    return (int)n;
}

/* ---- the terminal ---- */

EMU_PRIV bool host_is_terminal(host_fd fd) { return isatty((int)fd) == 1; }
EMU_PRIV host_fd host_stdin(void) { return 0; }
EMU_PRIV host_fd host_stdout(void) { return 1; }

static void posix_terminal_restore(void)
{
    if (posix_process.saved_valid && posix_process.raw) {
        posix_process.raw = 0;
        tcsetattr(0, TCSANOW, &posix_process.saved);
    }
}

/* A signal that ends us: the terminal first, then what would have happened anyway. */
static void posix_fatal_signal(int number)
{
    posix_terminal_restore();
    signal(number, SIG_DFL);
    raise(number);
}

static void posix_hook_exit(void)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGQUIT, SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGALRM };
    size_t i;
    if (posix_process.exit_hooked)
        return;
    posix_process.exit_hooked = true;
    atexit(posix_terminal_restore);
    for (i = 0; i < EMU_ARRAY_LEN(fatal); i++) {
        struct sigaction was, now;
        if (sigaction(fatal[i], NULL, &was) || was.sa_handler != SIG_DFL)
            continue; /* somebody else's, or ignored on purpose */
        memset(&now, 0, sizeof now);
        now.sa_handler = posix_fatal_signal;
        now.sa_flags = (int)(SA_RESETHAND | SA_NODEFER);
        sigaction(fatal[i], &now, NULL);
    }
}

EMU_PRIV int host_terminal_raw(bool raw, bool signals)
{
    struct termios t;
    if (!isatty(0))
        return EMU_ENOTSUP;
    if (!raw) {
        posix_terminal_restore();
        return 0;
    }
    if (!posix_process.saved_valid) {
        if (tcgetattr(0, &posix_process.saved))
            return posix_error(errno);
        posix_process.saved_valid = 1;
    }
    posix_hook_exit();
    t = posix_process.saved;
    t.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag |= OPOST; /* "\n" of our own messages still starts a line */
    t.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals)
        t.c_lflag &= ~(tcflag_t)ISIG;
    t.c_cflag = (t.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    posix_process.raw = 1;
    return tcsetattr(0, TCSANOW, &t) ? posix_error(errno) : 0;
}

EMU_PRIV void host_terminal_size(int *columns, int *rows)
{
    *columns = 80;
    *rows = 24;
#ifdef TIOCGWINSZ
    {
        struct winsize w;
        memset(&w, 0, sizeof w);
        if (!ioctl(1, TIOCGWINSZ, &w) && w.ws_col && w.ws_row) {
            *columns = w.ws_col;
            *rows = w.ws_row;
        }
    }
#endif
}

/* ---- process ---- */

EMU_PRIV int host_daemonize(struct err *err)
{
    int null;
    pid_t child = fork();
    if (child < 0)
        return posix_fail(err, "-daemonize");
    if (child > 0)
        _exit(0); /* the child keeps files and locks */
    setsid();
    null = open("/dev/null", O_RDWR);
    if (null < 0)
        return posix_fail(err, "/dev/null");
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    if (null > 2)
        close(null);
    return 0;
}

EMU_PRIV long host_pid(void) { return (long)getpid(); }

static void posix_signal(int number)
{
    void (*handler)(int kind) = posix_process.on_signal;
    int was = errno;
    if (handler)
#ifdef SIGWINCH
        handler(number == SIGWINCH ? 2 : 1);
#else
        handler(1);
#endif
    (void)number;
    errno = was;
}

EMU_PRIV void host_on_signals(void (*handler)(int kind))
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP,
#ifdef SIGWINCH
                                   SIGWINCH
#endif
    };
    size_t i;
    posix_process.on_signal = handler;
    for (i = 0; i < EMU_ARRAY_LEN(numbers); i++) {
        struct sigaction a, was;
        if (!sigaction(numbers[i], NULL, &was) && was.sa_handler == SIG_IGN && numbers[i] == SIGHUP)
            continue; /* nohup */
        memset(&a, 0, sizeof a);
        a.sa_handler = handler ? posix_signal : SIG_DFL;
        sigaction(numbers[i], &a, NULL);
    }
}

#ifdef __linux__
/* linux/if_tun.h, whose includes would take many names of net/. */
enum { POSIX_IFF_TAP = 0x0002, POSIX_IFF_NO_PI = 0x1000, POSIX_IFF_VNET_HDR = 0x4000, POSIX_TUN_F_CSUM = 1, POSIX_TUN_F_TSO4 = 2, POSIX_TUN_F_TSO6 = 4 };
#define POSIX_TUNSETIFF _IOW('T', 202, int)
#define POSIX_TUNGETFEATURES _IOR('T', 207, unsigned int)
#define POSIX_TUNSETOFFLOAD _IOW('T', 208, unsigned int)
#endif

EMU_PRIV int host_tap_open(host_fd *out, char *ifname, size_t ifname_size, bool *vnet_hdr, struct err *err)
{
    *out = HOST_FD_NONE;
#ifdef __linux__
    {
        struct ifreq r;
        unsigned features = 0;
        int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            return posix_fail(err, "/dev/net/tun");
        memset(&r, 0, sizeof r);
        if (strlen(ifname) >= sizeof r.ifr_name) {
            close(fd);
            return err_set(err, EMU_EINVAL, "%s: interface names have at most %d characters", ifname, (int)sizeof r.ifr_name - 1);
        }
        memcpy(r.ifr_name, ifname, strlen(ifname) + 1);
        if (*vnet_hdr && (ioctl(fd, POSIX_TUNGETFEATURES, &features) || !(features & POSIX_IFF_VNET_HDR)))
            *vnet_hdr = false;
        r.ifr_flags = (short)(POSIX_IFF_TAP | POSIX_IFF_NO_PI | (*vnet_hdr ? POSIX_IFF_VNET_HDR : 0));
        if (ioctl(fd, POSIX_TUNSETIFF, &r) < 0) {
            int code = posix_fail(err, *ifname ? ifname : "tap");
            close(fd);
            return code;
        }
        posix_cloexec(fd);
        r.ifr_name[sizeof r.ifr_name - 1] = 0;
        snprintf(ifname, ifname_size, "%s", r.ifr_name);
        *out = fd;
        return 0;
    }
#else
    (void)ifname, (void)ifname_size, (void)vnet_hdr;
    return err_set(err, EMU_ENOTSUP, "tap interfaces are supported on Linux hosts only");
#endif
}

EMU_PRIV int host_tap_offload(host_fd fd, bool csum, bool tso4, bool tso6)
{
#ifdef __linux__
    unsigned flags = (csum ? POSIX_TUN_F_CSUM : 0) | (tso4 ? POSIX_TUN_F_TSO4 : 0) | (tso6 ? POSIX_TUN_F_TSO6 : 0);
    return ioctl((int)fd, POSIX_TUNSETOFFLOAD, (unsigned long)flags) < 0 ? posix_error(errno) : 0;
#else
    (void)fd, (void)csum, (void)tso4, (void)tso6;
    return EMU_ENOTSUP;
#endif
}

/* Terminal and interface headers leave short macros behind. */
#undef POSIX_TCP_NODELAY
#undef POSIX_POLL_ON_STACK
#undef POSIX_TUNSETIFF
#undef POSIX_TUNGETFEATURES
#undef POSIX_TUNSETOFFLOAD
#undef CR0
#undef CR1
#undef CR2
#undef CR3
#undef NL0
#undef NL1
#undef FF0
#undef FF1
#undef BS0
#undef BS1
#undef VT0
#undef VT1
#undef TAB0
#undef TAB1
#undef TAB2
#undef TAB3
#undef ECHO
#undef B0

#endif /* EMU_HOST_POSIX */

/* ======================================== src/host/none.c ======================================== */

/* host/none.c - a host of which nothing is known but C99: stdio files, no sockets, no terminal control.
 *
 * Contract   Implements host.h; chosen with -DEMU_HOST_NONE or when the system is unknown. What cannot be done answers EMU_ENOTSUP.
 * Theory     Files are stdio streams, so that sizes end where long ends. The clock is the processor time, which equals
 *            real time as long as we compute, and waiting is computing.
 * Invariants 1. Only functions of the C99 library are called.
 *            2. Standard output is written as text arrives; standard input is never read, since a read could block.
 */

#ifdef EMU_HOST_NONE

#include <errno.h>
#include <time.h>

static int none_unsupported(struct err *err, const char *what)
{
    return err_set(err, EMU_ENOTSUP, "%s: not supported on this host (plain C99 build)", what);
}

/* ---- time and randomness ---- */

EMU_PRIV int64_t host_clock_ns(void)
{
    clock_t c = clock();
    if (sizeof(clock_t) < 8 || c == (clock_t)-1)
        return (int64_t)time(NULL) * NS_PER_SEC;
    return (int64_t)((double)c * (1e9 / (double)CLOCKS_PER_SEC));
}

EMU_PRIV int64_t host_wall_ns(void) { return (int64_t)time(NULL) * NS_PER_SEC; }

EMU_PRIV int64_t host_local_offset_s(int64_t wall_s)
{
    time_t t = (time_t)wall_s, as_local;
    struct tm *tm = gmtime(&t);
    if (!tm)
        return 0;
    tm->tm_isdst = -1;
    as_local = mktime(tm);
    return as_local == (time_t)-1 ? 0 : (int64_t)difftime(t, as_local);
}

EMU_PRIV void host_random(void *buf, size_t size)
{
    uint8_t *p = buf;
    uint64_t x = (uint64_t)time(NULL) ^ ((uint64_t)clock() << 32) ^ (uint64_t)(uintptr_t)buf;
    size_t i;
    for (i = 0; i < size; i++) {
        uint64_t z = x += UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        p[i] = (uint8_t)(z >> 33);
    }
}

/* ---- memory ---- */

EMU_PRIV void *host_map_memory(size_t size_bytes) { return calloc(1, size_bytes); }
EMU_PRIV void host_unmap_memory(void *p, size_t size_bytes)
{
    (void)size_bytes;
    free(p);
}
EMU_PRIV void host_discard_memory(void *p, size_t size_bytes) { memset(p, 0, size_bytes); }

/* ---- files ---- */

struct host_file {
    FILE *stream;
    bool writable;
};

EMU_PRIV int host_file_open(struct host_file **out, const char *path, int flags, struct err *err)
{
    struct host_file *f;
    FILE *stream = NULL;
    *out = NULL;
    if (!(flags & HOST_OPEN_TRUNCATE))
        stream = fopen(path, flags & HOST_OPEN_WRITE ? "r+b" : "rb");
    if (stream && (flags & HOST_OPEN_EXCLUSIVE) && (flags & HOST_OPEN_CREATE)) {
        fclose(stream);
        return err_set(err, EMU_EEXIST, "%s: exists already", path);
    }
    if (!stream && (flags & (HOST_OPEN_CREATE | HOST_OPEN_TRUNCATE)))
        stream = fopen(path, "w+b");
    if (!stream)
        return err_set(err, EMU_ENOENT, "%s: %s", path, errno ? strerror(errno) : "can't be opened");
    f = calloc(1, sizeof *f);
    if (!f) {
        fclose(stream);
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    }
    f->stream = stream;
    f->writable = (flags & HOST_OPEN_WRITE) != 0;
    *out = f;
    return 0;
}

EMU_PRIV int host_file_temp(struct host_file **out, struct err *err)
{
    struct host_file *f = calloc(1, sizeof *f);
    *out = NULL;
    if (f)
        f->stream = tmpfile();
    if (!f || !f->stream) {
        free(f);
        return err_set(err, EMU_EIO, "no temporary file can be made");
    }
    f->writable = true;
    *out = f;
    return 0;
}

EMU_PRIV void host_file_close(struct host_file *f)
{
    if (!f)
        return;
    fclose(f->stream);
    free(f);
}

EMU_PRIV int64_t host_file_size(struct host_file *f)
{
    long n;
    if (fseek(f->stream, 0, SEEK_END) || (n = ftell(f->stream)) < 0)
        return EMU_EIO;
    return n;
}

EMU_PRIV int host_file_read(struct host_file *f, uint64_t offset, void *buf, size_t size)
{
    size_t n = 0;
    if (offset > (uint64_t)LONG_MAX || size > (uint64_t)LONG_MAX - offset)
        return EMU_ERANGE;
    if (!fseek(f->stream, (long)offset, SEEK_SET))
        n = fread(buf, 1, size, f->stream);
    if (n < size && ferror(f->stream)) {
        clearerr(f->stream);
        return EMU_EIO;
    }
    memset((uint8_t *)buf + n, 0, size - n);
    return 0;
}

EMU_PRIV int host_file_write(struct host_file *f, uint64_t offset, const void *buf, size_t size)
{
    int64_t end = host_file_size(f);
    static const uint8_t zeros[512];
    if (!f->writable)
        return EMU_EROFS;
    if (end < 0)
        return (int)end;
    if (offset > (uint64_t)LONG_MAX || size > (uint64_t)LONG_MAX - offset)
        return EMU_ENOSPC;
    while ((uint64_t)end < offset) { /* C99 promises no holes */
        size_t n = (size_t)EMU_MIN((uint64_t)sizeof zeros, offset - (uint64_t)end);
        if (fseek(f->stream, (long)end, SEEK_SET) || fwrite(zeros, 1, n, f->stream) != n)
            return EMU_ENOSPC;
        end += (int64_t)n;
    }
    if (fseek(f->stream, (long)offset, SEEK_SET))
        return EMU_EIO;
    if (fwrite(buf, 1, size, f->stream) != size || fflush(f->stream)) {
        clearerr(f->stream);
        return EMU_ENOSPC;
    }
    return 0;
}

EMU_PRIV int host_file_flush(struct host_file *f) { return fflush(f->stream) ? EMU_EIO : 0; }
EMU_PRIV int host_file_discard(struct host_file *f, uint64_t offset, uint64_t size)
{
    (void)f, (void)offset, (void)size;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_file_resize(struct host_file *f, uint64_t size)
{
    int64_t end = host_file_size(f);
    if (end < 0)
        return (int)end;
    if (size < (uint64_t)end)
        return EMU_ENOTSUP;
    return size > (uint64_t)end ? host_file_write(f, size - 1, "", 1) : 0;
}
EMU_PRIV int host_file_next_data(struct host_file *f, uint64_t offset, uint64_t *data_start, uint64_t *data_end)
{
    (void)f, (void)offset, (void)data_start, (void)data_end;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_file_lock(struct host_file *f, bool exclusive)
{
    (void)f, (void)exclusive;
    return EMU_ENOTSUP;
}
EMU_PRIV bool host_file_same(struct host_file *a, struct host_file *b)
{
    (void)a, (void)b;
    return false;
}
EMU_PRIV bool host_file_is_device(struct host_file *f)
{
    (void)f;
    return false;
}

EMU_PRIV int host_file_load(const char *path, uint8_t **data, size_t *size, size_t limit, struct err *err)
{
    struct host_file *f;
    int64_t n;
    int r;
    *data = NULL;
    *size = 0;
    r = host_file_open(&f, path, 0, err);
    if (r)
        return r;
    n = host_file_size(f);
    if (n < 0)
        r = err_set(err, (int)n, "%s: can't be read", path);
    else if ((uint64_t)n > limit)
        r = err_set(err, EMU_ERANGE, "%s: is larger than %lu bytes", path, (unsigned long)limit);
    else if (!(*data = malloc((size_t)n + 1)))
        r = err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    else if (host_file_read(f, 0, *data, (size_t)n)) {
        free(*data);
        *data = NULL;
        r = err_set(err, EMU_EIO, "%s: can't be read", path);
    } else {
        *size = (size_t)n;
    }
    host_file_close(f);
    return r;
}

EMU_PRIV int host_file_save(const char *path, const void *data, size_t size, struct err *err)
{
    FILE *f = fopen(path, "wb");
    bool ok;
    if (!f)
        return err_set(err, EMU_EACCES, "%s: can't be written", path);
    ok = fwrite(data, 1, size, f) == size;
    ok = !fclose(f) && ok;
    return ok ? 0 : err_set(err, EMU_ENOSPC, "%s: can't be written", path);
}

EMU_PRIV enum host_file_kind host_path_kind(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return HOST_KIND_NONE;
    fclose(f);
    return HOST_KIND_FILE;
}
EMU_PRIV int host_path_remove(const char *path) { return remove(path) ? EMU_EIO : 0; }

/* ---- readiness: nothing ever is, so waiting is letting time pass ---- */

EMU_PRIV int host_poll(struct host_poll_item *items, size_t count, int64_t timeout_ns)
{
    int64_t start = host_clock_ns();
    size_t i;
    int ready = 0;
    for (i = 0; i < count; i++) {
        items[i].ready = items[i].want & HOST_WRITE; /* streams that are open can be written */
        ready += items[i].ready != 0;
    }
    if (timeout_ns < 0)
        timeout_ns = NS_PER_SEC;
    while (!ready && timeout_ns && host_clock_ns() - start < timeout_ns) {
    }
    return ready;
}
EMU_PRIV int host_wake_create(host_fd *read_end, host_fd *write_end)
{
    *read_end = *write_end = HOST_FD_NONE;
    return 0;
}
EMU_PRIV void host_wake(host_fd write_end) { (void)write_end; }
EMU_PRIV void host_wake_drain(host_fd read_end) { (void)read_end; }

/* ---- byte streams: 0, 1, 2 are the standard ones, others are stdio pointers ---- */

EMU_PRIV int host_fd_nonblocking(host_fd fd, bool on)
{
    (void)fd, (void)on;
    return 0;
}
EMU_PRIV int host_fd_read(host_fd fd, void *buf, size_t size)
{
    (void)fd, (void)buf, (void)size;
    return EMU_EAGAIN;
}
EMU_PRIV int host_fd_write(host_fd fd, const void *buf, size_t size)
{
    FILE *f = fd == 1 ? stdout : fd == 2 ? stderr : fd > 2 ? (FILE *)fd : NULL;
    if (!f)
        return EMU_EINVAL;
    if (fwrite(buf, 1, size, f) != size || fflush(f))
        return EMU_EPIPE;
    return (int)size;
}
EMU_PRIV void host_fd_close(host_fd fd)
{
    if (fd > 2)
        fclose((FILE *)fd);
}
EMU_PRIV int host_open_stream(host_fd *out, const char *path, bool write, bool append, struct err *err)
{
    FILE *f = fopen(path, !write ? "rb" : append ? "ab" : "wb");
    *out = HOST_FD_NONE;
    if (!f)
        return err_set(err, EMU_EACCES, "%s: can't be opened", path);
    *out = (host_fd)f;
    return 0;
}
EMU_PRIV int host_open_pty(host_fd *out, host_fd *keep, char *name, size_t name_size, struct err *err)
{
    (void)name, (void)name_size;
    *out = *keep = HOST_FD_NONE;
    return none_unsupported(err, "pty");
}
EMU_PRIV host_fd host_reopen_nonblocking(host_fd fd, bool write)
{
    (void)fd, (void)write;
    return HOST_FD_NONE;
}
EMU_PRIV int host_spawn(host_fd *out, long *pid, const char *const *argv, struct err *err)
{
    *out = HOST_FD_NONE;
    *pid = -1;
    return none_unsupported(err, argv[0]);
}
EMU_PRIV void host_reap(long pid) { (void)pid; }

/* ---- sockets: none ---- */

EMU_PRIV int host_resolve(const char *name, uint16_t port, struct host_addr *out, size_t max, struct err *err)
{
    if (max && host_addr_parse(name, out)) {
        out->port = port;
        return 1;
    }
    return none_unsupported(err, name);
}
EMU_PRIV bool host_addr_parse(const char *text, struct host_addr *out)
{
    int i;
    memset(out, 0, sizeof *out);
    for (i = 0; i < 4; i++) {
        unsigned n = 0, digits = 0;
        for (; *text >= '0' && *text <= '9' && digits < 3; digits++)
            n = n * 10 + (unsigned)(*text++ - '0');
        if (!digits || n > 255 || *text != (i < 3 ? '.' : 0))
            return false;
        out->ip[i] = (uint8_t)n;
        text++;
    }
    out->family = HOST_INET;
    return true;
}
EMU_PRIV void host_addr_format(const struct host_addr *a, char *buf, size_t size)
{
    if (a->family == HOST_INET)
        snprintf(buf, size, "%u.%u.%u.%u:%u", a->ip[0], a->ip[1], a->ip[2], a->ip[3], a->port);
    else
        snprintf(buf, size, "none");
}
EMU_PRIV int host_socket(host_fd *out, int family, int type)
{
    (void)family, (void)type;
    *out = HOST_FD_NONE;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_bind(host_fd fd, const struct host_addr *a, bool reuse)
{
    (void)fd, (void)a, (void)reuse;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_listen(host_fd fd, int backlog)
{
    (void)fd, (void)backlog;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_accept(host_fd fd, host_fd *out, struct host_addr *peer)
{
    (void)fd, (void)peer;
    *out = HOST_FD_NONE;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_connect(host_fd fd, const struct host_addr *a)
{
    (void)fd, (void)a;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_socket_error(host_fd fd)
{
    (void)fd;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_local_addr(host_fd fd, struct host_addr *a)
{
    (void)fd, (void)a;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_peer_addr(host_fd fd, struct host_addr *a)
{
    (void)fd, (void)a;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_shutdown_write(host_fd fd)
{
    (void)fd;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_send_to(host_fd fd, const void *buf, size_t size, const struct host_addr *to)
{
    (void)fd, (void)buf, (void)size, (void)to;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_recv_from(host_fd fd, void *buf, size_t size, struct host_addr *from)
{
    (void)fd, (void)buf, (void)size, (void)from;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_readv(host_fd fd, const struct host_iov *iov, int count)
{
    (void)fd, (void)iov, (void)count;
    return EMU_EAGAIN;
}
EMU_PRIV int host_writev(host_fd fd, const struct host_iov *iov, int count)
{
    int i, done = 0;
    for (i = 0; i < count; i++) {
        int n = host_fd_write(fd, iov[i].base, iov[i].size);
        if (n < 0)
            return done ? done : n;
        done += n;
    }
    return done;
}
EMU_PRIV int host_set_option(host_fd fd, int option, int value)
{
    (void)fd, (void)option, (void)value;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_join_multicast(host_fd fd, const struct host_addr *group, const struct host_addr *local)
{
    (void)fd, (void)group, (void)local;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_resolvers(struct host_addr *out, size_t max, int64_t *changed)
{
    (void)out, (void)max;
    if (changed)
        *changed = 0;
    return 0;
}

/* ---- terminal and process ---- */

EMU_PRIV bool host_is_terminal(host_fd fd)
{
    (void)fd;
    return false;
}
EMU_PRIV host_fd host_stdin(void) { return 0; }
EMU_PRIV host_fd host_stdout(void) { return 1; }
EMU_PRIV int host_terminal_raw(bool raw, bool signals)
{
    (void)raw, (void)signals;
    return EMU_ENOTSUP;
}
EMU_PRIV void host_terminal_size(int *columns, int *rows)
{
    *columns = 80;
    *rows = 24;
}
EMU_PRIV int host_daemonize(struct err *err) { return none_unsupported(err, "-daemonize"); }
EMU_PRIV long host_pid(void) { return 0; }
EMU_PRIV void host_on_signals(void (*handler)(int kind)) { (void)handler; }
EMU_PRIV int host_tap_open(host_fd *out, char *ifname, size_t ifname_size, bool *vnet_hdr, struct err *err)
{
    (void)ifname, (void)ifname_size, (void)vnet_hdr;
    *out = HOST_FD_NONE;
    return none_unsupported(err, "tap");
}
EMU_PRIV int host_tap_offload(host_fd fd, bool csum, bool tso4, bool tso6)
{
    (void)fd, (void)csum, (void)tso4, (void)tso6;
    return EMU_ENOTSUP;
}

#endif /* EMU_HOST_NONE */

/* ======================================== src/cpu/state.c ======================================== */

/* cpu/state.c - the CPU's state as a whole: reset, derived mode, boot states, printing.
 *
 * Models     Intel SDM vol. 3 table 10-1 (state after power-up, reset, INIT); modes of vol. 3 chapter 2.
 * Contract   Whoever changes CR0, CR4, EFER, XCR0, DR7, CPL, EFLAGS.VM/AC or a segment calls cpu_update_mode() afterwards; loaders
 *            call cpu_load_boot_state(), run.c and the board cpu_reset().
 * Theory     Everything a trace was specialised on is in mode_key, so a mode change is the choice of another key and costs no
 *            flush of traces.
 * Invariants 1. mode, code_size, mode_key, seg_base[] and tlb_set are functions of the rest, written here only.
 *            2. In 64-bit mode seg_base[] of ES, CS, SS, DS is 0, whatever the descriptors say.
 * Missing    SMM.
 */

/* ORDER mode_key */
static bool state_is_flat(const struct seg *s, bool code)
{
    if ((s->attr & (SEG_UNUSABLE | SEG_S | SEG_P)) != (SEG_S | SEG_P) || s->base || s->limit != 0xFFFFFFFFu)
        return false;
    if (code)
        return (s->attr & (SEG_CODE | SEG_WRITE_READ)) == (SEG_CODE | SEG_WRITE_READ);
    return (s->attr & (SEG_CODE | SEG_WRITE_READ | SEG_DOWN_CONFORM)) == SEG_WRITE_READ;
}

EMU_PRIV void cpu_update_mode(struct cpu *c)
{
    uint32_t key;
    unsigned s;
    const struct seg *cs = &c->seg[SEG_CS];
    bool smap;
    if (!(c->cr0 & CR0_PE))
        c->mode = MODE_REAL;
    else if (c->eflags & FLAG_VM)
        c->mode = MODE_V86;
    else if (!(c->efer & EFER_LMA))
        c->mode = MODE_PROT;
    else
        c->mode = cs->attr & SEG_L ? MODE_LONG : MODE_COMPAT;
    c->code_size = c->mode == MODE_LONG ? 8 : cs->attr & SEG_DB ? 4 : 2;
    key = c->code_size == 8 ? KEY_CS64 : c->code_size == 4 ? KEY_CS32 : KEY_CS16;
    for (s = 0; s < SEG_COUNT; s++)
        c->seg_base[s] = c->seg[s].base;
    if (c->mode == MODE_LONG) {
        c->seg_base[SEG_ES] = c->seg_base[SEG_CS] = c->seg_base[SEG_SS] = c->seg_base[SEG_DS] = 0;
        key |= KEY_SS32 | KEY_FLAT_ES | KEY_FLAT_CS | KEY_FLAT_SS | KEY_FLAT_DS;
    } else {
        if (c->seg[SEG_SS].attr & SEG_DB)
            key |= KEY_SS32;
        if (state_is_flat(&c->seg[SEG_ES], false))
            key |= KEY_FLAT_ES;
        if (state_is_flat(cs, true))
            key |= KEY_FLAT_CS;
        if (state_is_flat(&c->seg[SEG_SS], false))
            key |= KEY_FLAT_SS;
        if (state_is_flat(&c->seg[SEG_DS], false))
            key |= KEY_FLAT_DS;
    }
    if (c->cpl == 3)
        key |= KEY_USER;
    if (c->cpl == 0)
        key |= KEY_KERNEL;
    if (c->mode == MODE_REAL || c->mode == MODE_V86)
        key |= KEY_REAL;
    if (c->mode == MODE_V86)
        key |= KEY_V86;
    if (c->cr0 & CR0_PG)
        key |= KEY_PAGING;
    smap = c->cpl < 3 && (c->cr4 & CR4_SMAP) && (c->cr0 & CR0_PG);
    if (smap && !(c->eflags & FLAG_AC))
        key |= KEY_SMAP;
    if (c->cpl == 3 && (c->cr0 & CR0_AM) && (c->eflags & FLAG_AC))
        key |= KEY_AC;
    if (c->cr0 & (CR0_EM | CR0_TS))
        key |= KEY_NO_X87;
    if ((c->cr0 & (CR0_EM | CR0_TS)) || !(c->cr4 & CR4_OSFXSR))
        key |= KEY_NO_SSE;
    if ((c->cr0 & CR0_TS) || !(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6 || (key & KEY_REAL))
        key |= KEY_NO_AVX;
    if (c->efer & EFER_LMA)
        key |= KEY_LONG;
    if ((c->dr[7] & 0xFF) || c->debugger_stops)
        key |= KEY_DEBUG;
    c->mode_key = key;
    c->tlb_set = c->cpl == 3 ? 1 : smap && (c->eflags & FLAG_AC) ? 2 : 0;
}

static void state_set_segment(struct seg *s, uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr)
{
    s->selector = selector;
    s->base = base;
    s->limit = limit;
    s->attr = attr;
}

enum {
    STATE_DATA = SEG_P | SEG_S | SEG_WRITE_READ | SEG_ACCESSED,
    STATE_CODE = SEG_P | SEG_S | SEG_CODE | SEG_WRITE_READ | SEG_ACCESSED,
    STATE_LDT = SEG_P | 2,
    STATE_TSS32_BUSY = SEG_P | 11
};

EMU_PRIV void cpu_reset(struct cpu *c, bool init)
{
    unsigned k;
    uint64_t cr0_kept = init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;
    memset(c->gpr, 0, sizeof c->gpr);
    c->gpr[REG_RDX] = c->signature;
    c->rip = 0xFFF0;
    c->eflags = 2;
    cpu_set_arith_flags(c, 0);
    c->cr0 = CR0_ET | cr0_kept;
    c->cr2 = c->cr3 = c->cr4 = 0;
    c->efer = 0;
    memset(c->dr, 0, sizeof c->dr);
    c->dr[6] = 0xFFFF0FF0u;
    c->dr[7] = 0x400;
    c->debug_hits = 0;
    c->watch_hit = false;
    for (k = 0; k < SEG_COUNT; k++)
        state_set_segment(&c->seg[k], 0, 0, 0xFFFF, STATE_DATA);
    state_set_segment(&c->seg[SEG_CS], 0xF000, 0xFFFF0000u, 0xFFFF, STATE_CODE);
    state_set_segment(&c->seg[SEG_LDTR], 0, 0, 0xFFFF, STATE_LDT);
    state_set_segment(&c->seg[SEG_TR], 0, 0, 0xFFFF, STATE_TSS32_BUSY);
    c->gdtr.base = c->idtr.base = 0;
    c->gdtr.limit = c->idtr.limit = 0xFFFF;
    c->cpl = 0;
    c->halted = c->shutdown = false;
    c->waiting_sipi = c->index != 0;
    c->interrupt_shadow = 0;
    c->nmi_blocked = false;
    c->monitor_armed = false;
    memset(&c->fault, 0, sizeof c->fault);
    memset(c->pdpte, 0, sizeof c->pdpte);
    if (!init) {
        c->pending = 0;
        memset(c->xmm, 0, sizeof c->xmm);
        c->mxcsr = 0x1F80;
        x87_reset(c, true);
        c->xcr0 = 1;
        c->pkru = 0;
        c->star = c->lstar = c->cstar = c->fmask = c->kernel_gs_base = 0;
        c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = c->tsc_aux = 0;
        c->pat = UINT64_C(0x0007040600070406);
        c->misc_enable = 1 | (cpu_has(c, CPU_MONITOR) ? UINT64_C(1) << 18 : 0);
        c->apic_base = UINT64_C(0xFEE00800) | (c->index == 0 ? 0x100 : 0);
        memset(c->mtrr, 0, sizeof c->mtrr);
        c->tsc_offset = 0;
        c->mcg_status = c->mcg_ctl = c->debugctl = c->feature_control = 0;
        memset(c->mc_bank, 0, sizeof c->mc_bank);
    }
    c->attention = 1;
    tlb_flush_all(c);
    cpu_update_mode(c);
    if (EMU_LOG_ENABLED(c->emu, LOG_CPU_RESET)) {
        struct buf b;
        buf_init(&b, c->emu);
        buf_printf(&b, "CPU %s (CPU %u)\n", init ? "INIT" : "Reset", c->index);
        cpu_print_registers(c, &b);
        if (!b.failed && b.size)
            emu_log(c->emu, LOG_CPU_RESET, "%.*s", (int)(b.size - (b.data[b.size - 1] == '\n')), (const char *)b.data);
        buf_free(&b);
    }
}

EMU_PRIV void cpu_load_boot_state(struct cpu *c, const struct cpu_boot *b)
{
    static const uint8_t which[4] = { SEG_CS, SEG_DS, SEG_ES, SEG_SS };
    uint16_t selector[4];
    unsigned k;
    cpu_reset(c, false);
    c->waiting_sipi = false;
    c->cr0 = CR0_ET;
    selector[0] = b->cs;
    selector[1] = b->ds;
    selector[2] = b->es;
    selector[3] = b->ss;
    if (b->kind == CPU_BOOT_REAL) {
        for (k = 0; k < 4; k++)
            state_set_segment(&c->seg[which[k]], selector[k], (uint32_t)selector[k] << 4, 0xFFFF, which[k] == SEG_CS ? STATE_CODE : STATE_DATA);
    } else {
        bool wide = b->kind == CPU_BOOT_LONG64;
        for (k = 0; k < 4; k++)
            state_set_segment(&c->seg[which[k]], selector[k], 0, 0xFFFFFFFFu,
                              which[k] == SEG_CS ? STATE_CODE | SEG_G | (wide ? SEG_L : SEG_DB) : STATE_DATA | SEG_G | SEG_DB);
        c->seg[SEG_FS] = c->seg[SEG_GS] = c->seg[SEG_DS];
        c->cr0 |= CR0_PE;
        if (wide) {
            c->cr0 |= CR0_PG;
            c->cr4 |= CR4_PAE;
            c->efer = EFER_LME | EFER_LMA;
        }
        c->gdtr.base = b->gdt_base;
        c->gdtr.limit = b->gdt_limit;
    }
    c->cr3 = b->cr3;
    for (k = 0; k < 16; k++)
        c->gpr[k] = b->gpr[k];
    c->rip = b->rip;
    tlb_flush_all(c);
    cpu_update_mode(c);
}

/* ---- printing ---- */

EMU_PRIV void cpu_print_registers(struct cpu *c, struct buf *out)
{
    static const char *const names[16] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15" };
    static const uint8_t order[16] = { 0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15 };
    static const char *const segs[SEG_COUNT] = { "ES ", "CS ", "SS ", "DS ", "FS ", "GS ", "LDT", "TR " };
    uint32_t fl = cpu_eflags(c);
    bool wide = (c->efer & EFER_LMA) != 0 || cpu_has(c, CPU_LM);
    int width = wide ? 16 : 8;
    unsigned k;
    for (k = 0; k < (wide ? 16u : 8u); k++)
        buf_printf(out, "%c%.2s=%0*" PRIx64 "%s", wide ? names[order[k]][0] : 'E', names[order[k]] + 1, width, c->gpr[order[k]], k % 4 == 3 ? "\n" : " ");
    buf_printf(out, "%s=%0*" PRIx64 " %s=%08x [%c%c%c%c%c%c%c] CPL=%d II=%d A20=%d SMM=0 HLT=%d\n", wide ? "RIP" : "EIP", width, c->rip,
               wide ? "RFL" : "EFL", (unsigned)fl, fl & FLAG_DF ? 'D' : '-', fl & FLAG_OF ? 'O' : '-', fl & FLAG_SF ? 'S' : '-',
               fl & FLAG_ZF ? 'Z' : '-', fl & FLAG_AF ? 'A' : '-', fl & FLAG_PF ? 'P' : '-', fl & FLAG_CF ? 'C' : '-', c->cpl,
               c->interrupt_shadow != 0, ((c->emu->a20_mask >> 20) & 1) != 0, c->halted);
    for (k = 0; k < SEG_COUNT; k++) {
        const struct seg *s = &c->seg[k];
        buf_printf(out, "%s=%04x %0*" PRIx64 " %08x %08x DPL=%u %s%s\n", segs[k], s->selector, width, s->base, (unsigned)s->limit,
                   (unsigned)(s->attr & 0xFFFF) << 8, (unsigned)(s->attr & SEG_DPL) >> 5, s->attr & SEG_UNUSABLE ? "unusable" : k == SEG_LDTR ? "LDT" : k == SEG_TR ? "TSS" :
                   s->attr & SEG_CODE ? (s->attr & SEG_L ? "CS64" : s->attr & SEG_DB ? "CS32" : "CS16") : (s->attr & SEG_DB ? "DS32" : "DS16"),
                   k < SEG_LDTR && !(s->attr & SEG_UNUSABLE) ? (s->attr & SEG_WRITE_READ ? (s->attr & SEG_CODE ? " [R]" : " [W]") : " [-]") : "");
    }
    buf_printf(out, "GDT=     %0*" PRIx64 " %08x\nIDT=     %0*" PRIx64 " %08x\n", width, c->gdtr.base, (unsigned)c->gdtr.limit, width, c->idtr.base,
               (unsigned)c->idtr.limit);
    buf_printf(out, "CR0=%08x CR2=%0*" PRIx64 " CR3=%0*" PRIx64 " CR4=%08x\n", (unsigned)c->cr0, width, c->cr2, width, c->cr3, (unsigned)c->cr4);
    for (k = 0; k < 4; k++)
        buf_printf(out, "DR%u=%0*" PRIx64 "%s", k, width, c->dr[k], k == 3 ? "\n" : " ");
    buf_printf(out, "DR6=%0*" PRIx64 " DR7=%0*" PRIx64 "\nEFER=%016" PRIx64 "\n", width, c->dr[6], width, c->dr[7], c->efer);
    buf_printf(out, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", c->x87_control, (c->x87_status & 0xC7FFu) | ((unsigned)(c->x87_top & 7) << 11),
               c->x87_top & 7u, (unsigned)(uint8_t)~c->x87_tags, (unsigned)c->mxcsr);
    for (k = 0; k < 8; k++) {
        const struct x87_reg *r = &c->x87[(c->x87_top + k) & 7];
        buf_printf(out, "FPR%u=%016" PRIx64 " %04x%s", k, r->mant, r->exp, k & 1 ? "\n" : " ");
    }
    for (k = 0; k < (wide ? 16u : 8u); k++)
        buf_printf(out, "XMM%02u=%016" PRIx64 "%016" PRIx64 "%s", k, c->xmm[k].q[1], c->xmm[k].q[0], k & 1 ? "\n" : " ");
}

/* ======================================== src/cpu/paging.c ======================================== */

/* cpu/paging.c - the page walk: linear to guest-physical addresses.
 *
 * Models     Intel SDM vol. 3 chapter 4: 32-bit paging (with PSE and PSE-36), PAE, 4-level and 5-level paging; WP, SMEP, SMAP, NX,
 *            protection keys for user pages, reserved bits.
 * Contract   mem.c calls mmu_walk() on a TLB miss; nobody else looks at page tables but cpu_debug_translate(), which shares the
 *            walker and changes nothing. PDPTEs are loaded by system.c (MOV CR3 and the like) through mmu_load_pdptes().
 * Theory     One loop serves all formats: a level has a shift (bit position of its index), an index width and an entry size.
 *            Rights are gathered on the way down; A and D are written only after every check has passed, from the top down,
 *            into entries whose bit is missing.
 * Invariants 1. A walk that faults changes no memory.
 *            2. Every table and page address has passed emu->a20_mask.
 *            3. Table bytes are read through RAM where plain RAM is, else through mem_ld(): no address can escape.
 * Missing    Paging-structure caches are not modelled: each walk starts at CR3 (or at the PDPTE registers).
 */

enum {
    PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100,
    MMU_PF_P = 1, MMU_PF_W = 2, MMU_PF_U = 4, MMU_PF_RSVD = 8, MMU_PF_I = 16, MMU_PF_PK = 32
};
#define PTE_NX (UINT64_C(1) << 63)

/* Plain RAM below 4 GiB outside of the PAM and VGA window, without asking the map: page tables lie there nearly always. */
static uint8_t *mmu_table_host(struct emu *e, uint64_t gpa)
{
    if (e->ram && gpa >= MIB && gpa < e->ram_below_4g && gpa + 8 <= e->ram->size_bytes)
        return e->ram->bytes + gpa;
    return NULL;
}

static uint64_t mmu_read_entry(struct cpu *c, uint64_t gpa, unsigned size)
{
    uint8_t *p = mmu_table_host(c->emu, gpa);
    if (p)
        return size == 8 ? ld64le(p) : ld32le(p);
    return mem_ld(c->emu, gpa, size);
}

static void mmu_write_entry(struct cpu *c, uint64_t gpa, uint64_t value, unsigned size)
{
    uint8_t *p = mmu_table_host(c->emu, gpa);
    if (p && !(c->emu->ram->page_flags[gpa >> 12] & (PAGE_HAS_CODE | PAGE_TRACKED | PAGE_WATCHED)))
        stn_le(p, value, size);
    else
        mem_st(c->emu, gpa, value, size);
}

/* Address bits that must be 0 in a 64-bit entry, from the physical address width up to bit 51. */
static uint64_t mmu_high_reserved(const struct cpu *c)
{
    return ((UINT64_C(1) << 52) - 1) & ~((UINT64_C(1) << c->phys_bits) - 1);
}

/* PAE without long mode: CR3 loads the four PDPTEs (SDM 3A 4.4.1). 0 or CPU_FAULT with #GP(0). */
EMU_PRIV int mmu_load_pdptes(struct cpu *c, uint64_t cr3)
{
    uint64_t table = cr3 & 0xFFFFFFE0u, v[4];
    int k;
    for (k = 0; k < 4; k++) {
        v[k] = mmu_read_entry(c, (table + (unsigned)k * 8) & c->emu->a20_mask, 8);
        /* Bits 1-2, 5-8 and everything above the physical width are reserved. */
        if ((v[k] & PTE_P) && (v[k] & (mmu_high_reserved(c) | UINT64_C(0x1E6) | UINT64_C(0xFFF0000000000000))))
            return cpu_raise_error(c, EXC_GP, 0);
    }
    memcpy(c->pdpte, v, sizeof v);
    return CPU_OK;
}

/* Result of the pure part of a walk. */
struct mmu_path {
    uint64_t entry_gpa[5], entry[5];
    unsigned count, entry_size;
    uint64_t gpa, page_size;
    bool writable, user, nx, global;
    uint8_t pkey;
};

/* Follows the tables. 0, or the page-fault code bits P and RSVD plus 0x100 to tell failure. */
static unsigned mmu_follow(struct cpu *c, uint64_t va, struct mmu_path *p)
{
    bool pae = (c->cr4 & CR4_PAE) != 0, lma = (c->efer & EFER_LMA) != 0, nxe = pae && (c->efer & EFER_NXE);
    unsigned shift, bits = pae ? 9 : 10;
    uint64_t table, a20 = c->emu->a20_mask, reserved;
    p->count = 0;
    p->entry_size = pae ? 8 : 4;
    p->writable = p->user = true;
    p->nx = p->global = false;
    p->pkey = 0;
    if (!pae) {
        shift = 22;
        table = c->cr3 & 0xFFFFF000u;
        reserved = 0;
    } else {
        reserved = mmu_high_reserved(c);
        if (!nxe)
            reserved |= PTE_NX;
        if (lma) {
            shift = c->cr4 & CR4_LA57 ? 48 : 39;
            table = c->cr3 & ((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xFFF);
        } else {
            uint64_t pdpte = c->pdpte[(va >> 30) & 3];
            if (!(pdpte & PTE_P))
                return 0x100;
            reserved |= UINT64_C(0x7FF0000000000000);
            shift = 21;
            table = pdpte & ((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xFFF);
        }
    }
    for (;;) {
        uint64_t gpa = (table + ((va >> shift) & ((1u << bits) - 1)) * p->entry_size) & a20;
        uint64_t e = mmu_read_entry(c, gpa, p->entry_size);
        bool leaf = shift == 12;
        if (!(e & PTE_P))
            return 0x100;
        if (e & reserved)
            return 0x100 | MMU_PF_P | MMU_PF_RSVD;
        if (!leaf && (e & PTE_PS)) {
            if (!pae) {
                leaf = (c->cr4 & CR4_PSE) != 0; /* else the bit is ignored */
            } else if (shift == 21 || (shift == 30 && cpu_has(c, CPU_PDPE1GB))) {
                leaf = true;
            } else {
                return 0x100 | MMU_PF_P | MMU_PF_RSVD;
            }
        }
        p->entry_gpa[p->count] = gpa;
        p->entry[p->count++] = e;
        p->writable = p->writable && (e & PTE_W);
        p->user = p->user && (e & PTE_U);
        if (nxe && (e & PTE_NX))
            p->nx = true;
        if (leaf) {
            uint64_t base;
            p->page_size = UINT64_C(1) << shift;
            p->global = (e & PTE_G) && (c->cr4 & CR4_PGE);
            if (pae) {
                base = e & ((UINT64_C(1) << 52) - 1);
                if (shift > 12) {
                    if (base & (p->page_size - 1) & ~UINT64_C(0x1FFF)) /* bit 12 is PAT, the others must be 0 */
                        return 0x100 | MMU_PF_P | MMU_PF_RSVD;
                }
                p->pkey = (uint8_t)((e >> 59) & 15);
            } else if (shift == 22) {
                /* PSE-36: bits 13-20 are address bits 32-39; bit 21 and those above the physical width are reserved. */
                uint64_t high = (e >> 13) & 0xFF, allowed = cpu_has(c, CPU_PSE36) ? (UINT64_C(1) << EMU_MIN(c->phys_bits, 40)) - 1 : 0xFFFFFFFFu;
                base = (e & 0xFFC00000u) | (high << 32);
                if ((e & (1u << 21)) || (base & ~allowed))
                    return 0x100 | MMU_PF_P | MMU_PF_RSVD;
            } else {
                base = e & 0xFFFFF000u;
            }
            p->gpa = ((base & ~(p->page_size - 1)) | (va & (p->page_size - 1))) & a20;
            return 0;
        }
        table = pae ? e & ((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xFFF) : e & 0xFFFFF000u;
        shift -= bits;
    }
}

/* What protection keys forbid on a user page (SDM 3A 4.6.2): bit 0 access, bit 1 write. */
static unsigned mmu_pkey_denies(const struct cpu *c, const struct mmu_path *p, bool user)
{
    unsigned ad, wd;
    if (!(c->cr4 & CR4_PKE) || !(c->efer & EFER_LMA) || !p->user)
        return 0;
    ad = (c->pkru >> (p->pkey * 2)) & 1;
    wd = (c->pkru >> (p->pkey * 2 + 1)) & 1;
    if (wd && !user && !(c->cr0 & CR0_WP))
        wd = 0;
    return ad | (ad || wd ? 2 : 0);
}

EMU_PRIV int mmu_walk(struct cpu *c, uint64_t va, unsigned access, struct walk *out)
{
    struct mmu_path p;
    bool user = c->cpl == 3 && !(access & ACCESS_SYSTEM), write = (access & 3) == ACCESS_WRITE || (access & 3) == ACCESS_RMW;
    bool exec = (access & 3) == ACCESS_EXEC, may_write, smap_blocks;
    unsigned code, denied, k;
    if (!cpu_canonical(c, va) && (c->efer & EFER_LMA))
        return cpu_raise_error(c, EXC_GP, 0); /* only for system structures: others were checked by segment */
    code = mmu_follow(c, va, &p);
    if (code)
        goto fault;
    denied = mmu_pkey_denies(c, &p, user);
    may_write = user ? p.user && p.writable : p.writable || !(c->cr0 & CR0_WP);
    smap_blocks = !user && p.user && (c->cr4 & CR4_SMAP) && ((access & ACCESS_SYSTEM) || !(c->eflags & FLAG_AC));
    code = MMU_PF_P;
    if (user && !p.user)
        goto fault;
    if (exec) {
        if (p.nx || (!user && p.user && (c->cr4 & CR4_SMEP)))
            goto fault;
    } else {
        if (smap_blocks || (write && !may_write))
            goto fault;
        if ((denied & 1) || (write && (denied & 2))) {
            code |= MMU_PF_PK;
            goto fault;
        }
    }
    for (k = 0; k < p.count; k++) {
        uint64_t want = PTE_A | (write && k == p.count - 1 ? PTE_D : 0);
        if ((p.entry[k] & want) != want) {
            p.entry[k] |= want;
            mmu_write_entry(c, p.entry_gpa[k], p.entry[k], p.entry_size);
        }
    }
    out->gpa = p.gpa;
    out->page_size = p.page_size;
    out->writable = may_write && !(denied & 2);
    out->user = p.user;
    out->executable = !p.nx && !(!user && p.user && (c->cr4 & CR4_SMEP));
    out->global = p.global;
    out->dirty = (p.entry[p.count - 1] & PTE_D) != 0;
    out->pkey = p.pkey;
    return CPU_OK;
fault:
    code &= 0xFF;
    if (write)
        code |= MMU_PF_W;
    if (user)
        code |= MMU_PF_U;
    if (exec && (((c->cr4 & CR4_PAE) && (c->efer & EFER_NXE)) || (c->cr4 & CR4_SMEP)))
        code |= MMU_PF_I;
    return cpu_raise_page_fault(c, va, code);
}

EMU_PRIV bool cpu_debug_translate(struct cpu *c, uint64_t va, uint64_t *gpa)
{
    struct mmu_path p;
    if (!(c->cr0 & CR0_PG)) {
        *gpa = va & 0xFFFFFFFFu & c->emu->a20_mask;
        return true;
    }
    if (!(c->efer & EFER_LMA))
        va &= 0xFFFFFFFFu;
    else if (!cpu_canonical(c, va))
        return false;
    if (mmu_follow(c, va, &p))
        return false;
    *gpa = p.gpa;
    return true;
}

#undef PTE_NX

/* ======================================== src/cpu/mem.c ======================================== */

/* cpu/mem.c - loads and stores by segment and by linear address, and the TLB in front of the page walk.
 *
 * Models     Segment checks of SDM vol. 3 chapter 5 (5.3 limits, 5.4 types), canonical form (vol. 1 3.3.7.1), TLB rules of vol. 3
 *            4.10 (PCID, global pages, INVLPG, INVPCID), #AC, data breakpoints (17.2).
 * Contract   Every guest access that is not inlined in a uop handler comes through here. Below it are mmu_walk() and the
 *            machine's memory map; above it the handlers (tlb_host() fills their page caches) and all plain-C instructions.
 * Theory     A direct-mapped TLB in three sets (see cpu.h) says for a linear page whether loads, and whether stores, may go straight
 *            to host memory. Whatever may not (I/O, a store to a page with traces, to a tracked page, a watched page) stands
 *            in the small `slow` cache with its physical address, so that MMIO costs no page walk each time.
 *            Nothing is ever cleared to flush: entries carry a tag. A CR3 load takes a new tag (or, with PCID, finds the old one);
 *            global pages carry a tag of their own. uop page caches compare cpu->generation, which changes with each of these and also
 *            with INVLPG and with new code pages.
 * Invariants 1. A TLB entry allows a direct store only if: plain RAM for reads and writes, D set, rights for the set's accesses, no page
 *               flag HAS_CODE, TRACKED or WATCHED, no data breakpoint in the page.
 *            2. No two CPUs of a machine ever have the same generation or tag, and none is used again before a wrap, at which all are
 *               cleared.
 *            3. A store that crosses pages translates both before it changes a byte.
 *            4. Set 0 holds no user page while CR4.SMAP is on: those fault there.
 */

#if defined(EMU_TORTURE)
enum { MEM_ITLB_SIZE = 4, MEM_SLOW_SIZE = 2, MEM_PCIDS = 2 };
#else
enum { MEM_ITLB_SIZE = 512, MEM_SLOW_SIZE = 64, MEM_PCIDS = 16 };
#endif
enum { MEM_WATCHES = 32, MEM_PAGE = 4096, MEM_BLOCKING_FLAGS = PAGE_HAS_CODE | PAGE_TRACKED | PAGE_WATCHED };

struct mem_itlb { /* code pages */
    uint64_t page, gpa;
    struct phys_page phys;
    uint32_t generation;
    bool user;
};
struct mem_slow { /* data pages that have no direct access, or none for stores */
    uint64_t page, gpa;
    struct phys_page phys;
    uint32_t generation;
    bool write_ok; /* rights and D bit allow a store */
    bool watched;
};
struct mem_pcid {
    bool valid;
    uint16_t pcid;
    uint32_t tlb_generation, generation, epoch;
};
struct mem_large { /* where large pages were seen, so that INVLPG of a small one stays cheap; [0] lower half, [1] upper */
    uint64_t low, high, size; /* size 0: none */
};
struct mem_mmu {
    struct mem_itlb itlb[MEM_ITLB_SIZE];
    struct mem_slow slow[TLB_SETS][MEM_SLOW_SIZE];
    struct mem_pcid pcids[MEM_PCIDS];
    struct mem_large large[2];
    unsigned next_pcid;
    uint32_t epoch; /* changes when something that all PCIDs share was invalidated: their generations are stale then */
    struct breakpoint watches[MEM_WATCHES];
    unsigned watch_count;
};
static struct mem_mmu *mem_mmu(const struct cpu *c) { return c->mmu; }

/* ---- generations ---- */

static void mem_clear_tags(struct cpu *c)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned s, k;
    for (s = 0; s < TLB_SETS; s++) {
        for (k = 0; k < TLB_SIZE; k++) {
            c->tlb[s][k].read_page = c->tlb[s][k].write_page = TLB_NO_PAGE;
            c->tlb[s][k].generation = 0;
        }
        for (k = 0; k < MEM_SLOW_SIZE; k++)
            m->slow[s][k].page = TLB_NO_PAGE;
    }
    for (k = 0; k < MEM_ITLB_SIZE; k++)
        m->itlb[k].page = TLB_NO_PAGE;
    for (k = 0; k < MEM_PCIDS; k++)
        m->pcids[k].valid = false;
    for (k = 0; k < 2; k++)
        m->large[k].size = 0;
}

EMU_PRIV uint32_t cpu_new_generation(struct emu *e)
{
    if (e->last_generation >= UINT32_MAX - 8) { /* wrap: forget every tag there is; invariant 2 */
        unsigned k;
        e->last_generation = 0;
        for (k = 0; k < e->cpu_count; k++)
            if (e->cpus[k] && e->cpus[k]->mmu) {
                mem_clear_tags(e->cpus[k]);
                e->cpus[k]->generation = ++e->last_generation;
                e->cpus[k]->tlb_generation = e->cpus[k]->global_generation = e->cpus[k]->generation;
            }
        if (e->traces)
            trace_flush_all(e);
    }
    return ++e->last_generation;
}

/* Remembers the tags under the present PCID, so that a return to it finds its entries. */
static void mem_save_pcid(struct cpu *c)
{
    struct mem_mmu *m = mem_mmu(c);
    uint16_t id = c->cr4 & CR4_PCIDE ? (uint16_t)(c->cr3 & 0xFFF) : 0;
    unsigned k, at = MEM_PCIDS;
    for (k = 0; k < MEM_PCIDS && at == MEM_PCIDS; k++)
        if (m->pcids[k].valid && m->pcids[k].pcid == id)
            at = k;
    for (k = 0; k < MEM_PCIDS && at == MEM_PCIDS; k++)
        if (!m->pcids[k].valid)
            at = k;
    if (at == MEM_PCIDS)
        at = m->next_pcid++ % MEM_PCIDS;
    m->pcids[at].valid = true;
    m->pcids[at].pcid = id;
    m->pcids[at].tlb_generation = c->tlb_generation;
    m->pcids[at].generation = c->generation;
    m->pcids[at].epoch = m->epoch;
}

static void mem_forget_pcid(struct cpu *c, unsigned pcid, bool all)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned k;
    for (k = 0; k < MEM_PCIDS; k++)
        if (all || m->pcids[k].pcid == pcid)
            m->pcids[k].valid = false;
}

EMU_PRIV void tlb_flush_nonglobal(struct cpu *c)
{
    mem_forget_pcid(c, 0, true);
    c->tlb_generation = c->generation = cpu_new_generation(c->emu);
}

EMU_PRIV void tlb_flush_all(struct cpu *c)
{
    struct mem_mmu *m = mem_mmu(c);
    mem_forget_pcid(c, 0, true);
    m->large[0].size = m->large[1].size = 0;
    c->global_generation = cpu_new_generation(c->emu);
    c->tlb_generation = c->generation = cpu_new_generation(c->emu);
}

EMU_PRIV void tlb_flush_pcid(struct cpu *c, unsigned pcid)
{
    if (pcid == (c->cr3 & 0xFFF) || !(c->cr4 & CR4_PCIDE)) {
        mem_forget_pcid(c, pcid, false);
        c->tlb_generation = c->generation = cpu_new_generation(c->emu);
    } else {
        mem_forget_pcid(c, pcid, false);
    }
}

EMU_PRIV void tlb_set_cr3(struct cpu *c, uint64_t cr3, bool keep)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned k;
    if (!(c->cr4 & CR4_PCIDE)) {
        c->cr3 = cr3;
        c->tlb_generation = c->generation = cpu_new_generation(c->emu);
        return;
    }
    mem_save_pcid(c);
    c->cr3 = cr3;
    if (keep) {
        for (k = 0; k < MEM_PCIDS; k++) {
            struct mem_pcid *p = &m->pcids[k];
            if (p->valid && p->pcid == (cr3 & 0xFFF)) {
                c->tlb_generation = p->tlb_generation;
                c->generation = p->epoch == m->epoch ? p->generation : cpu_new_generation(c->emu);
                return;
            }
        }
    }
    mem_forget_pcid(c, (unsigned)(cr3 & 0xFFF), false);
    c->tlb_generation = c->generation = cpu_new_generation(c->emu);
}

/* uop page caches of this CPU become stale under every PCID; the TLB stays. */
static void mem_bump_uops(struct cpu *c)
{
    mem_mmu(c)->epoch++;
    c->generation = cpu_new_generation(c->emu);
}

static void mem_drop_tlb(struct cpu *c, unsigned set, uint64_t page, uint64_t mask)
{
    struct tlb_entry *t = &c->tlb[set][(page >> 12) & (TLB_SIZE - 1)];
    if (((t->read_page ^ page) & mask) == 0 || ((t->write_page ^ page) & mask) == 0)
        t->read_page = t->write_page = TLB_NO_PAGE;
}

EMU_PRIV void tlb_flush_page(struct cpu *c, uint64_t va)
{
    struct mem_mmu *m = mem_mmu(c);
    struct mem_large *l = &m->large[va >> 63];
    uint64_t size = MEM_PAGE, mask, k;
    unsigned s, j;
    if (l->size && va >= l->low && va <= l->high)
        size = l->size;
    mask = ~(size - 1);
    va &= mask;
    for (s = 0; s < TLB_SETS; s++) {
        for (k = 0; k < EMU_MIN(size / MEM_PAGE, TLB_SIZE); k++)
            mem_drop_tlb(c, s, va + k * MEM_PAGE, mask);
        for (j = 0; j < MEM_SLOW_SIZE; j++)
            if (((m->slow[s][j].page ^ va) & mask) == 0)
                m->slow[s][j].page = TLB_NO_PAGE;
    }
    for (j = 0; j < MEM_ITLB_SIZE; j++)
        if (((m->itlb[j].page ^ va) & mask) == 0)
            m->itlb[j].page = TLB_NO_PAGE;
    mem_bump_uops(c);
}

EMU_PRIV void tlb_machine_changed(struct emu *e)
{
    unsigned k;
    for (k = 0; k < e->cpu_count; k++)
        if (e->cpus && e->cpus[k] && e->cpus[k]->mmu)
            tlb_flush_all(e->cpus[k]);
}

EMU_PRIV void tlb_protect_page(struct emu *e, struct ram_block *block, uint64_t block_offset)
{
    uintptr_t host = (uintptr_t)(block->bytes + (block_offset & ~(uint64_t)(MEM_PAGE - 1)));
    unsigned n, s, k;
    for (n = 0; n < e->cpu_count; n++) {
        struct cpu *c = e->cpus[n];
        if (!c || !c->mmu)
            continue;
        for (s = 0; s < TLB_SETS; s++)
            for (k = 0; k < TLB_SIZE; k++) {
                struct tlb_entry *t = &c->tlb[s][k];
                if (t->write_page != TLB_NO_PAGE && t->addend + (uintptr_t)t->write_page == host)
                    t->write_page = TLB_NO_PAGE;
            }
        mem_bump_uops(c);
    }
}

EMU_PRIV int mem_mmu_create(struct cpu *c)
{
    c->mmu = emu_alloc(c->emu, sizeof(struct mem_mmu));
    if (!c->mmu)
        return EMU_ENOMEM;
    mem_clear_tags(c);
    c->global_generation = cpu_new_generation(c->emu);
    c->tlb_generation = c->generation = cpu_new_generation(c->emu);
    return 0;
}

EMU_PRIV void mem_mmu_destroy(struct cpu *c)
{
    emu_free(c->emu, c->mmu);
    c->mmu = NULL;
}

/* ---- watchpoints and data breakpoints ---- */

EMU_PRIV int mem_watch_set(struct emu *e, uint64_t va, uint64_t size, unsigned kind, bool on)
{
    unsigned n, k;
    int result = 0;
    for (n = 0; n < e->cpu_count; n++) {
        struct mem_mmu *m = mem_mmu(e->cpus[n]);
        for (k = 0; k < m->watch_count; k++)
            if (m->watches[k].va == va && m->watches[k].size == size && m->watches[k].kind == kind)
                break;
        if (on && k == m->watch_count) {
            if (k == MEM_WATCHES) {
                result = EMU_ENOMEM;
                continue;
            }
            m->watches[k].va = va;
            m->watches[k].size = size;
            m->watches[k].kind = (uint8_t)kind;
            m->watch_count++;
        } else if (!on) {
            if (k == m->watch_count)
                result = EMU_ENOENT;
            else
                m->watches[k] = m->watches[--m->watch_count];
        }
        tlb_flush_all(e->cpus[n]);
    }
    return result;
}

/* Bytes that DR n watches: length code 00 1, 01 2, 11 4, 10 8; the address is aligned to it (SDM 3B 17.2.5). */
static uint64_t mem_dr_range(const struct cpu *c, unsigned n, uint64_t *size)
{
    unsigned code = (unsigned)(c->dr[7] >> (18 + n * 4)) & 3;
    *size = code == 0 ? 1 : code == 1 ? 2 : code == 3 ? 4 : 8;
    return c->dr[n] & ~(*size - 1);
}

static bool mem_overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a - b < b_size || b - a < a_size;
}

/* Does anybody watch data in the page? Then no access to it goes directly. */
static bool mem_page_watched(const struct cpu *c, uint64_t page)
{
    const struct mem_mmu *m = mem_mmu(c);
    unsigned n;
    uint64_t size, at;
    if (c->dr[7] & 0xFF)
        for (n = 0; n < 4; n++)
            if (((c->dr[7] >> (n * 2)) & 3) && ((c->dr[7] >> (16 + n * 4)) & 1)) {
                at = mem_dr_range(c, n, &size);
                if (mem_overlaps(page, MEM_PAGE, at, size))
                    return true;
            }
    for (n = 0; n < m->watch_count; n++)
        if (mem_overlaps(page, MEM_PAGE, m->watches[n].va, m->watches[n].size))
            return true;
    return false;
}

static void mem_note_access(struct cpu *c, uint64_t va, unsigned size, bool write, bool read)
{
    const struct mem_mmu *m = mem_mmu(c);
    unsigned n;
    uint64_t dr_size, at;
    if (c->dr[7] & 0xFF)
        for (n = 0; n < 4; n++) {
            unsigned type = (unsigned)(c->dr[7] >> (16 + n * 4)) & 3;
            if (!(type & 1) || (type == 1 && !write)) /* 01 writes, 11 reads and writes */
                continue;
            at = mem_dr_range(c, n, &dr_size);
            if (mem_overlaps(va, size, at, dr_size)) {
                bool enabled = ((c->dr[7] >> (n * 2)) & 3) != 0;
                if (enabled)
                    c->debug_hits |= 1u << n;
            }
        }
    for (n = 0; n < m->watch_count; n++)
        if ((((m->watches[n].kind & 1) && write) || ((m->watches[n].kind & 2) && read)) &&
            mem_overlaps(va, size, m->watches[n].va, m->watches[n].size)) {
            c->watch_hit = true;
            c->watch_va = va;
            c->attention = 1;
        }
}

/* ---- translation ---- */

static unsigned mem_set(const struct cpu *c, unsigned access) { return access & ACCESS_SYSTEM ? 0 : c->tlb_set; }
static bool mem_writes(unsigned access) { return (access & 3) == ACCESS_WRITE || (access & 3) == ACCESS_RMW; }

static uint64_t mem_linear_mask(const struct cpu *c, unsigned access)
{
    bool wide = access & ACCESS_SYSTEM ? (c->efer & EFER_LMA) != 0 : c->mode == MODE_LONG;
    return wide ? UINT64_MAX : UINT32_MAX;
}

static bool mem_valid(const struct cpu *c, uint32_t generation)
{
    return generation == c->tlb_generation || generation == c->global_generation;
}

static void mem_note_large(struct cpu *c, uint64_t va, uint64_t size)
{
    struct mem_large *l = &mem_mmu(c)->large[va >> 63];
    uint64_t low = va & ~(size - 1), high = low + (size - 1);
    if (!l->size) {
        l->low = low;
        l->high = high;
        l->size = size;
        return;
    }
    l->low = EMU_MIN(l->low, low);
    l->high = EMU_MAX(l->high, high);
    l->size = EMU_MAX(l->size, size);
}

static bool mem_blocks_store(const struct phys_page *p)
{
    return !p->writable_direct || !p->block || (p->block->page_flags[p->block_offset >> 12] & MEM_BLOCKING_FLAGS);
}

/* Where [va, ...) of one page is: *host for direct access, else *slow with the physical page. */
static int mem_translate(struct cpu *c, uint64_t va, unsigned access, uint8_t **host, struct mem_slow **slow)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned set = mem_set(c, access);
    bool write = mem_writes(access), direct_read, direct_write;
    uint64_t page = va & ~(uint64_t)(MEM_PAGE - 1);
    struct tlb_entry *t = &c->tlb[set][(va >> 12) & (TLB_SIZE - 1)];
    struct mem_slow *sl = &m->slow[set][(va >> 12) & (MEM_SLOW_SIZE - 1)];
    struct walk w;
    struct phys_page phys;
    uint32_t generation;
    bool watched;
    *host = NULL;
    *slow = sl;
    if ((write ? t->write_page : t->read_page) == page && mem_valid(c, t->generation)) {
        *host = (uint8_t *)(t->addend + (uintptr_t)va);
        return CPU_OK;
    }
    if (sl->page == page && mem_valid(c, sl->generation) && (!write || sl->write_ok)) {
        bool still = sl->watched || sl->phys.partial || !sl->phys.host || (write && mem_blocks_store(&sl->phys));
        if (still)
            return CPU_OK;
    }
    if (c->cr0 & CR0_PG) {
        if (mmu_walk(c, va, access, &w))
            return CPU_FAULT;
        generation = w.global ? c->global_generation : c->tlb_generation;
        if (w.page_size > MEM_PAGE)
            mem_note_large(c, va, w.page_size);
    } else {
        w.gpa = va & 0xFFFFFFFFu & c->emu->a20_mask;
        w.writable = w.dirty = true;
        generation = c->tlb_generation;
    }
    mem_resolve(c->emu, w.gpa, &phys);
    watched = mem_page_watched(c, page) || (phys.block && (phys.block->page_flags[phys.block_offset >> 12] & PAGE_WATCHED));
    direct_read = phys.host && !phys.partial && !watched;
    direct_write = direct_read && w.writable && w.dirty && !mem_blocks_store(&phys);
    if (direct_read) {
        t->read_page = page;
        t->write_page = direct_write ? page : TLB_NO_PAGE;
        t->addend = (uintptr_t)phys.host - (uintptr_t)page;
        t->generation = generation;
        if (write ? direct_write : direct_read) {
            *host = phys.host + (va & (MEM_PAGE - 1));
            return CPU_OK;
        }
    }
    sl->page = page;
    sl->gpa = w.gpa & ~(uint64_t)(MEM_PAGE - 1);
    sl->phys = phys;
    sl->generation = generation;
    sl->write_ok = w.writable && w.dirty;
    sl->watched = watched;
    return CPU_OK;
}

static void mem_slow_read(struct cpu *c, const struct mem_slow *s, uint64_t va, void *buf, unsigned size)
{
    unsigned in = (unsigned)(va & (MEM_PAGE - 1));
    if (s->watched)
        mem_note_access(c, va, size, false, true);
    if (s->phys.host && !s->phys.partial)
        memcpy(buf, s->phys.host + in, size);
    else if (size == 1 || size == 2 || size == 4 || size == 8)
        stn_le(buf, mem_ld(c->emu, s->gpa + in, size), size);
    else
        mem_read(c->emu, s->gpa + in, buf, size);
}

static void mem_slow_write(struct cpu *c, const struct mem_slow *s, uint64_t va, const void *buf, unsigned size)
{
    unsigned in = (unsigned)(va & (MEM_PAGE - 1));
    if (s->watched)
        mem_note_access(c, va, size, true, false);
    if (s->phys.host && !s->phys.partial && s->phys.writable_direct) {
        /* RAM with traces or a tracker: the block's owner hears of it; the copy may be the very page that runs. */
        struct ram_block *block = s->phys.block;
        uint64_t offset = s->phys.block_offset + in;
        memcpy(s->phys.host + in, buf, size);
        mem_written(c->emu, block, offset, size);
    } else if (size == 1 || size == 2 || size == 4 || size == 8) {
        mem_st(c->emu, s->gpa + in, ldn_le(buf, size), size);
    } else {
        mem_write(c->emu, s->gpa + in, buf, size);
    }
}

/* One page's part of an access that may cross: translate first, move later. */
struct mem_part {
    uint64_t va;
    unsigned size;
    uint8_t *host;
    struct mem_slow slow;
};

static int mem_part_prepare(struct cpu *c, struct mem_part *p, uint64_t va, unsigned size, unsigned access)
{
    struct mem_slow *s;
    p->va = va;
    p->size = size;
    if (mem_translate(c, va, access, &p->host, &s))
        return CPU_FAULT;
    if (!p->host)
        p->slow = *s; /* a copy: the other page may take the same place, and callbacks may flush */
    return CPU_OK;
}

static void mem_part_load(struct cpu *c, const struct mem_part *p, uint8_t *buf)
{
    if (p->host)
        memcpy(buf, p->host, p->size);
    else
        mem_slow_read(c, &p->slow, p->va, buf, p->size);
}

static void mem_part_store(struct cpu *c, const struct mem_part *p, const uint8_t *buf)
{
    if (p->host)
        memcpy(p->host, buf, p->size);
    else
        mem_slow_write(c, &p->slow, p->va, buf, p->size);
}

/* Translates up to a page of bytes, which lie in one or two pages. part[1].size is 0 where one does. */
static int mem_prepare(struct cpu *c, struct mem_part part[2], uint64_t va, unsigned size, unsigned access)
{
    uint64_t mask = mem_linear_mask(c, access);
    unsigned first = MEM_PAGE - (unsigned)(va & (MEM_PAGE - 1));
    if (first > size)
        first = size;
    part[1].size = 0;
    if (mem_part_prepare(c, &part[0], va & mask, first, access))
        return CPU_FAULT;
    if (first < size && mem_part_prepare(c, &part[1], (va + first) & mask, size - first, access))
        return CPU_FAULT;
    return CPU_OK;
}

static EMU_NOINLINE int mem_load_page(struct cpu *c, uint64_t va, uint8_t *buf, unsigned size, unsigned access)
{
    struct mem_part part[2];
    if (mem_prepare(c, part, va, size, access))
        return CPU_FAULT;
    mem_part_load(c, &part[0], buf);
    if (part[1].size)
        mem_part_load(c, &part[1], buf + part[0].size);
    return CPU_OK;
}

static EMU_NOINLINE int mem_store_page(struct cpu *c, uint64_t va, const uint8_t *buf, unsigned size, unsigned access)
{
    struct mem_part part[2];
    if (mem_prepare(c, part, va, size, access))
        return CPU_FAULT;
    mem_part_store(c, &part[0], buf);
    if (part[1].size)
        mem_part_store(c, &part[1], buf + part[0].size);
    return CPU_OK;
}

EMU_PRIV int cpu_copy_linear(struct cpu *c, uint64_t va, void *buf, unsigned size, unsigned access)
{
    uint8_t *p = buf;
    while (size) {
        unsigned n = EMU_MIN(size, (unsigned)MEM_PAGE);
        if ((access & 3) == ACCESS_WRITE ? mem_store_page(c, va, p, n, access) : mem_load_page(c, va, p, n, access))
            return CPU_FAULT;
        va += n;
        p += n;
        size -= n;
    }
    return CPU_OK;
}

static bool mem_tlb_hit(const struct cpu *c, const struct tlb_entry *t, uint64_t tag, uint64_t va, unsigned size)
{
    return (va & ~(uint64_t)(MEM_PAGE - 1)) == tag && (va & (MEM_PAGE - 1)) + size <= MEM_PAGE && mem_valid(c, t->generation);
}

EMU_PRIV int cpu_load_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t *value, unsigned access)
{
    const struct tlb_entry *t = &c->tlb[mem_set(c, access)][(va >> 12) & (TLB_SIZE - 1)];
    uint8_t buf[8];
    if (EMU_LIKELY(mem_tlb_hit(c, t, mem_writes(access) ? t->write_page : t->read_page, va, size))) {
        *value = ldn_le((const uint8_t *)(t->addend + (uintptr_t)va), size);
        return CPU_OK;
    }
    if (mem_load_page(c, va, buf, size, access))
        return CPU_FAULT;
    *value = ldn_le(buf, size);
    return CPU_OK;
}

EMU_PRIV int cpu_store_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t value, unsigned access)
{
    const struct tlb_entry *t = &c->tlb[mem_set(c, access)][(va >> 12) & (TLB_SIZE - 1)];
    uint8_t buf[8];
    if (EMU_LIKELY(mem_tlb_hit(c, t, t->write_page, va, size))) {
        stn_le((uint8_t *)(t->addend + (uintptr_t)va), value, size);
        return CPU_OK;
    }
    stn_le(buf, value, size);
    return mem_store_page(c, va, buf, size, access);
}

EMU_PRIV uint8_t *tlb_host(struct cpu *c, uint64_t va, unsigned size, unsigned access)
{
    uint8_t *host;
    struct mem_slow *s;
    va &= mem_linear_mask(c, access);
    if ((va & (MEM_PAGE - 1)) + size > MEM_PAGE)
        return NULL;
    if (mem_translate(c, va, access, &host, &s))
        return NULL;
    return host;
}

EMU_PRIV int cpu_code_page(struct cpu *c, uint64_t va, struct phys_page *out, uint64_t *gpa)
{
    struct mem_mmu *m = mem_mmu(c);
    struct mem_itlb *t = &m->itlb[((va >> 12) ^ (c->cpl == 3 ? MEM_ITLB_SIZE / 2 : 0)) & (MEM_ITLB_SIZE - 1)];
    uint64_t page = va & ~(uint64_t)(MEM_PAGE - 1);
    bool user = c->cpl == 3;
    struct walk w;
    uint32_t generation;
    if (t->page == page && t->user == user && mem_valid(c, t->generation)) {
        *out = t->phys;
        *gpa = t->gpa;
        return CPU_OK;
    }
    if (c->cr0 & CR0_PG) {
        if (mmu_walk(c, va, ACCESS_EXEC, &w))
            return CPU_FAULT;
        generation = w.global ? c->global_generation : c->tlb_generation;
        if (w.page_size > MEM_PAGE)
            mem_note_large(c, va, w.page_size);
    } else {
        w.gpa = va & 0xFFFFFFFFu & c->emu->a20_mask;
        generation = c->tlb_generation;
    }
    mem_resolve(c->emu, w.gpa, out);
    *gpa = w.gpa & ~(uint64_t)(MEM_PAGE - 1);
    t->page = page;
    t->user = user;
    t->generation = generation;
    t->phys = *out;
    t->gpa = *gpa;
    return CPU_OK;
}

/* ---- segments ---- */

static int mem_segment_fault(struct cpu *c, unsigned seg) { return cpu_raise_error(c, seg == SEG_SS ? EXC_SS : EXC_GP, 0); }

EMU_PRIV int cpu_linear(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, unsigned access, uint64_t *va)
{
    const struct seg *s = &c->seg[seg];
    uint64_t last = offset + (size - 1);
    if (c->mode == MODE_LONG) {
        *va = offset + (seg == SEG_FS || seg == SEG_GS ? s->base : 0);
        if (!cpu_canonical(c, *va) || !cpu_canonical(c, *va + (size - 1)))
            return mem_segment_fault(c, seg);
        return CPU_OK;
    }
    if (s->attr & SEG_UNUSABLE)
        return mem_segment_fault(c, seg);
    if (c->mode == MODE_PROT || c->mode == MODE_COMPAT) {
        if (s->attr & SEG_CODE) {
            if (mem_writes(access) || !(s->attr & SEG_WRITE_READ))
                return mem_segment_fault(c, seg);
        } else if (mem_writes(access) && !(s->attr & SEG_WRITE_READ)) {
            return mem_segment_fault(c, seg);
        }
    }
    if ((s->attr & (SEG_CODE | SEG_DOWN_CONFORM)) == SEG_DOWN_CONFORM) { /* expand-down: above the limit */
        if (offset <= s->limit || last > (s->attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu))
            return mem_segment_fault(c, seg);
    } else if (last > s->limit && (s->limit != 0xFFFFFFFFu || offset > 0xFFFFFFFFu)) {
        return mem_segment_fault(c, seg);
    }
    *va = (s->base + offset) & 0xFFFFFFFFu;
    return CPU_OK;
}

static int mem_check_alignment(struct cpu *c, uint64_t va, unsigned size)
{
    if (EMU_UNLIKELY(c->mode_key & KEY_AC) && (size == 2 || size == 4 || size == 8) && (va & (size - 1)))
        return cpu_raise_error(c, EXC_AC, 0);
    return CPU_OK;
}

EMU_PRIV int cpu_load(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t *value)
{
    uint64_t va;
    if (cpu_linear(c, seg, offset, size, ACCESS_READ, &va) || mem_check_alignment(c, va, size))
        return CPU_FAULT;
    return cpu_load_linear(c, va, size, value, ACCESS_READ);
}

EMU_PRIV int cpu_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t value)
{
    uint64_t va;
    if (cpu_linear(c, seg, offset, size, ACCESS_WRITE, &va) || mem_check_alignment(c, va, size))
        return CPU_FAULT;
    return cpu_store_linear(c, va, size, value, ACCESS_WRITE);
}

EMU_PRIV int cpu_load_bytes(struct cpu *c, unsigned seg, uint64_t offset, void *buf, unsigned size)
{
    uint64_t va;
    if (cpu_linear(c, seg, offset, size, ACCESS_READ, &va))
        return CPU_FAULT;
    return cpu_copy_linear(c, va, buf, size, ACCESS_READ);
}

EMU_PRIV int cpu_store_bytes(struct cpu *c, unsigned seg, uint64_t offset, const void *buf, unsigned size)
{
    uint64_t va;
    const uint8_t *p = buf;
    if (cpu_linear(c, seg, offset, size, ACCESS_WRITE, &va))
        return CPU_FAULT;
    while (size) {
        unsigned n = EMU_MIN(size, (unsigned)MEM_PAGE);
        if (mem_store_page(c, va, p, n, ACCESS_WRITE))
            return CPU_FAULT;
        va += n;
        p += n;
        size -= n;
    }
    return CPU_OK;
}

EMU_PRIV int cpu_check_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size)
{
    uint64_t va, mask = mem_linear_mask(c, ACCESS_WRITE);
    uint8_t *host;
    struct mem_slow *s;
    if (cpu_linear(c, seg, offset, size, ACCESS_WRITE, &va))
        return CPU_FAULT;
    if (mem_translate(c, va, ACCESS_WRITE, &host, &s))
        return CPU_FAULT;
    if ((va & (MEM_PAGE - 1)) + size > MEM_PAGE && mem_translate(c, (va + size - 1) & mask & ~(uint64_t)(MEM_PAGE - 1), ACCESS_WRITE, &host, &s))
        return CPU_FAULT;
    return CPU_OK;
}

/* ---- debugger ---- */

static bool mem_debug_copy(struct cpu *c, uint64_t va, uint8_t *buf, size_t size, bool write)
{
    while (size) {
        uint64_t gpa;
        size_t n = EMU_MIN(size, (size_t)(MEM_PAGE - (va & (MEM_PAGE - 1))));
        if (!cpu_debug_translate(c, va, &gpa))
            return false;
        if (!write)
            mem_read(c->emu, gpa, buf, n);
        else if (mem_load(c->emu, gpa, buf, n)) /* into ROM too: software breakpoints */
            return false;
        va += n;
        buf += n;
        size -= n;
    }
    return true;
}

EMU_PRIV bool cpu_debug_read(struct cpu *c, uint64_t va, void *buf, size_t size) { return mem_debug_copy(c, va, buf, size, false); }

EMU_PRIV bool cpu_debug_write(struct cpu *c, uint64_t va, const void *buf, size_t size)
{
    uint8_t tmp[64];
    const uint8_t *p = buf;
    while (size) {
        size_t n = EMU_MIN(size, sizeof tmp);
        memcpy(tmp, p, n);
        if (!mem_debug_copy(c, va, tmp, n, true))
            return false;
        va += n;
        p += n;
        size -= n;
    }
    return true;
}

/* ======================================== src/cpu/exception.c ======================================== */

/* cpu/exception.c - delivery of faults, traps and interrupts.
 *
 * Models     Intel SDM vol. 3 chapter 6 (protected and 64-bit mode), 20 (real, virtual-8086, VME), 17 (debug exceptions).
 * Contract   Instructions raise with cpu_raise*() and return CPU_FAULT; the engine then calls cpu_deliver_fault(). run.c calls
 *            cpu_deliver_interrupt() for what the interrupt controller acknowledged and for NMI. INT n, INT3, INTO come through
 *            cpu_software_interrupt() as instructions that may fault themselves.
 * Theory     exc_deliver_once() tries one event and commits only when every check and push has succeeded; a fault in it leaves the CPU
 *            as it was and cpu->fault set. exc_deliver() is the state machine above it (SDM 3A table 6-5):
 *
 *              event --fault--> benign first or second: deliver the second instead
 *                    --fault--> both contributory, or page fault then contributory/page fault: #DF(0)
 *              #DF   --fault--> shutdown (exc_shutdown): the machine resets, or stops as -no-reboot says
 *
 * Invariants 1. cpu->cr2 changes exactly when a page fault is delivered (or becomes a double fault).
 *            2. Fault-class exceptions push RF set, all others as it is; #DB clears DR7.GD.
 * Missing    SMI.
 */

EMU_PRIV int cpu_raise(struct cpu *c, unsigned vector)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.flags = 0;
    c->fault.error = 0;
    return CPU_FAULT;
}

EMU_PRIV int cpu_raise_error(struct cpu *c, unsigned vector, uint32_t error)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.flags = FAULT_HAS_ERROR;
    c->fault.error = error;
    return CPU_FAULT;
}

EMU_PRIV int cpu_raise_page_fault(struct cpu *c, uint64_t va, uint32_t error)
{
    c->fault.cr2 = va;
    return cpu_raise_error(c, EXC_PF, error);
}

/* ---- real mode ---- */

static int exc_deliver_real(struct cpu *c, const struct fault *f, uint64_t return_rip)
{
    uint64_t v;
    struct stack st;
    uint32_t flags = cpu_eflags(c);
    unsigned ext = f->flags & FAULT_SOFT_INT ? 0 : 1;
    if (f->vector * 4u + 3u > c->idtr.limit)
        return cpu_raise_error(c, EXC_GP, f->vector * 8u + 2u + ext);
    if (cpu_load_linear(c, c->idtr.base + f->vector * 4u, 4, &v, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    st.ss = c->seg[SEG_SS];
    st.rsp = c->gpr[REG_RSP];
    st.wide = false;
    st.access = 0;
    st.error = 0;
    if (stack_push(c, &st, flags & 0xFFFF, 2) || stack_push(c, &st, c->seg[SEG_CS].selector, 2) || stack_push(c, &st, return_rip & 0xFFFF, 2))
        return CPU_FAULT;
    stack_set_rsp(c, &st.ss, st.rsp);
    cpu_set_segment_real(c, SEG_CS, (uint16_t)(v >> 16));
    c->rip = v & 0xFFFF;
    cpu_set_eflags(c, flags & ~(uint32_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
    cpu_update_mode(c);
    return CPU_OK;
}

/* VME: a software interrupt that the TSS's redirection bitmap sends to the virtual-8086 program's own table (SDM 3B 20.3.3.4). */
static int exc_deliver_v86(struct cpu *c, unsigned vector, uint64_t return_rip)
{
    uint64_t v;
    struct stack st;
    uint32_t flags = cpu_eflags(c), pushed = flags;
    bool iopl3 = (flags & FLAG_IOPL) == FLAG_IOPL;
    if (cpu_load_linear(c, vector * 4u, 4, &v, ACCESS_READ))
        return CPU_FAULT;
    if (!iopl3) { /* the program sees VIF as IF, and IOPL 3 */
        pushed = (flags & ~(uint32_t)FLAG_IF) | FLAG_IOPL;
        if (flags & FLAG_VIF)
            pushed |= FLAG_IF;
    }
    st.ss = c->seg[SEG_SS];
    st.rsp = c->gpr[REG_RSP];
    st.wide = false;
    st.access = 0;
    st.error = 0;
    if (stack_push(c, &st, pushed & 0xFFFF, 2) || stack_push(c, &st, c->seg[SEG_CS].selector, 2) || stack_push(c, &st, return_rip & 0xFFFF, 2))
        return CPU_FAULT;
    stack_set_rsp(c, &st.ss, st.rsp);
    cpu_set_segment_real(c, SEG_CS, (uint16_t)(v >> 16));
    c->rip = v & 0xFFFF;
    cpu_set_eflags(c, flags & ~(uint32_t)(FLAG_TF | (iopl3 ? FLAG_IF : FLAG_VIF)));
    cpu_update_mode(c);
    return CPU_OK;
}

/* ---- protected and 64-bit mode ---- */

EMU_PRIV int tss_stack(struct cpu *c, unsigned cpl, unsigned ext, uint16_t *ss, uint64_t *rsp)
{
    const struct seg *tr = &c->seg[SEG_TR];
    uint64_t v;
    unsigned at;
    if (tr->attr & SEG_UNUSABLE)
        return desc_error(c, EXC_TS, tr->selector, ext);
    if ((tr->attr & SEG_TYPE) & 8) {
        at = 4 + cpl * 8;
        if (at + 5 > tr->limit)
            return desc_error(c, EXC_TS, tr->selector, ext);
        if (cpu_load_linear(c, tr->base + at, 4, rsp, ACCESS_READ | ACCESS_SYSTEM) || cpu_load_linear(c, tr->base + at + 4, 2, &v, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
    } else {
        at = 2 + cpl * 4;
        if (at + 3 > tr->limit)
            return desc_error(c, EXC_TS, tr->selector, ext);
        if (cpu_load_linear(c, tr->base + at, 2, rsp, ACCESS_READ | ACCESS_SYSTEM) || cpu_load_linear(c, tr->base + at + 2, 2, &v, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
    }
    *ss = (uint16_t)v;
    return CPU_OK;
}

/* 64-bit TSS: RSP0-2 at 4, IST1-7 at 36. */
static int exc_tss64_stack(struct cpu *c, unsigned offset, unsigned ext, uint64_t *rsp)
{
    const struct seg *tr = &c->seg[SEG_TR];
    if ((tr->attr & SEG_UNUSABLE) || offset + 7 > tr->limit)
        return desc_error(c, EXC_TS, tr->selector, ext);
    if (cpu_load_linear(c, tr->base + offset, 8, rsp, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if (!cpu_canonical(c, *rsp))
        return cpu_raise_error(c, EXC_SS, ext);
    return CPU_OK;
}

/* Value of EFLAGS on the stack. */
static uint32_t exc_pushed_flags(const struct cpu *c, const struct fault *f)
{
    uint32_t flags = cpu_eflags(c);
    bool fault_class = !(f->flags & (FAULT_SOFT_INT | FAULT_ICEBP | FAULT_EXTERNAL)) && f->vector != EXC_DB && f->vector != EXC_BP && f->vector != EXC_OF;
    return fault_class ? flags | FLAG_RF : flags;
}

/* Reads and checks the gate of a vector. task: it is a task gate. */
static int exc_read_gate(struct cpu *c, const struct fault *f, unsigned ext, bool lma, uint32_t gate[4], bool *task)
{
    unsigned size = lma ? 16 : 8, type;
    uint32_t error = f->vector * 8u + 2u + ext;
    uint64_t v, at = c->idtr.base + f->vector * size;
    if (f->vector * size + size - 1 > c->idtr.limit)
        return cpu_raise_error(c, EXC_GP, error);
    if (cpu_load_linear(c, at, 8, &v, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    gate[0] = (uint32_t)v;
    gate[1] = (uint32_t)(v >> 32);
    gate[2] = gate[3] = 0;
    if (lma) {
        if (cpu_load_linear(c, at + 8, 8, &v, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
        gate[2] = (uint32_t)v;
        gate[3] = (uint32_t)(v >> 32);
    }
    type = (gate[1] >> 8) & 0x1F; /* S is 0 in gates */
    *task = type == DESC_TASK_GATE && !lma;
    if (!*task && type != DESC_INT32 && type != DESC_TRAP32 && (lma || (type != DESC_INT16 && type != DESC_TRAP16)))
        return cpu_raise_error(c, EXC_GP, error);
    if ((f->flags & FAULT_SOFT_INT) && ((gate[1] >> 13) & 3) < c->cpl)
        return cpu_raise_error(c, EXC_GP, error);
    if (!((gate[1] >> 15) & 1))
        return cpu_raise_error(c, EXC_NP, error);
    return CPU_OK;
}

static int exc_deliver_task(struct cpu *c, const struct fault *f, const uint32_t gate[4], unsigned ext, uint64_t return_rip)
{
    struct desc d;
    uint16_t selector = (uint16_t)(gate[0] >> 16);
    if (sel_is_null(selector) || (selector & 4))
        return desc_error(c, EXC_GP, selector, ext);
    if (desc_fetch(c, selector, EXC_GP, ext, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || (desc_type(&d) != DESC_TSS16 && desc_type(&d) != DESC_TSS32))
        return desc_error(c, EXC_GP, selector, ext);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, ext);
    return task_switch(c, &d, TASK_INT, (f->flags & FAULT_HAS_ERROR) != 0, f->error, return_rip, ext);
}

static int exc_push_frame(struct cpu *c, struct stack *st, const struct fault *f, uint64_t return_rip, unsigned size, bool with_stack, bool v86)
{
    if (v86 && (stack_push(c, st, c->seg[SEG_GS].selector, size) || stack_push(c, st, c->seg[SEG_FS].selector, size) ||
                stack_push(c, st, c->seg[SEG_DS].selector, size) || stack_push(c, st, c->seg[SEG_ES].selector, size)))
        return CPU_FAULT;
    if (with_stack && (stack_push(c, st, c->seg[SEG_SS].selector, size) || stack_push(c, st, c->gpr[REG_RSP], size)))
        return CPU_FAULT;
    if (stack_push(c, st, exc_pushed_flags(c, f), size) || stack_push(c, st, c->seg[SEG_CS].selector, size) || stack_push(c, st, return_rip, size))
        return CPU_FAULT;
    if ((f->flags & FAULT_HAS_ERROR) && stack_push(c, st, f->error, size))
        return CPU_FAULT;
    return CPU_OK;
}

/* SDM 2A "INT n", operation section: INTRA- and INTER-PRIVILEGE-LEVEL, FROM-VIRTUAL-8086-MODE, and their 64-bit forms. */
static int exc_deliver_protected(struct cpu *c, const struct fault *f, uint64_t return_rip)
{
    bool lma = (c->efer & EFER_LMA) != 0, task, inter, v86 = c->mode == MODE_V86;
    unsigned ext = f->flags & FAULT_SOFT_INT ? 0 : 1, size, new_cpl, ist = 0;
    uint32_t gate[4], new_flags;
    uint64_t offset, new_rsp = 0;
    uint16_t selector, ss_selector = 0;
    struct desc cs;
    struct seg new_cs;
    struct stack st;
    if (exc_read_gate(c, f, ext, lma, gate, &task))
        return CPU_FAULT;
    if (task)
        return exc_deliver_task(c, f, gate, ext, return_rip);
    selector = (uint16_t)(gate[0] >> 16);
    offset = (gate[0] & 0xFFFF) | (gate[1] & 0xFFFF0000u) | ((uint64_t)gate[2] << 32);
    size = lma ? 8 : (gate[1] >> 11) & 1 ? 4 : 2;
    if (size == 2)
        offset &= 0xFFFF;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, ext);
    if (desc_fetch(c, selector, EXC_GP, ext, &cs))
        return CPU_FAULT;
    if (!desc_is_code(&cs) || desc_dpl(&cs) > c->cpl)
        return desc_error(c, EXC_GP, selector, ext);
    if (lma && (!desc_long(&cs) || desc_db(&cs)))
        return desc_error(c, EXC_GP, selector, ext);
    if (!desc_present(&cs))
        return desc_error(c, EXC_NP, selector, ext);
    inter = !desc_conforming(&cs) && desc_dpl(&cs) < c->cpl;
    if (v86 && (!inter || desc_dpl(&cs) != 0))
        return desc_error(c, EXC_GP, selector, ext);
    new_cpl = inter ? desc_dpl(&cs) : c->cpl;
    if (lma)
        ist = gate[1] & 7;
    st.ss = c->seg[SEG_SS];
    st.rsp = c->gpr[REG_RSP];
    st.wide = lma;
    st.access = inter ? ACCESS_SYSTEM : 0;
    st.error = ext;
    if (lma) {
        if (ist) {
            if (exc_tss64_stack(c, 36 + (ist - 1) * 8, ext, &new_rsp))
                return CPU_FAULT;
            st.rsp = new_rsp;
        } else if (inter) {
            if (exc_tss64_stack(c, 4 + new_cpl * 8, ext, &new_rsp))
                return CPU_FAULT;
            st.rsp = new_rsp;
        }
        st.rsp &= ~UINT64_C(15);
        if (inter) { /* SS becomes a null selector with RPL = CPL */
            st.ss.selector = (uint16_t)new_cpl;
            st.ss.base = 0;
            st.ss.limit = 0;
            st.ss.attr = SEG_UNUSABLE | new_cpl << 5;
        }
    } else if (inter) {
        if (tss_stack(c, new_cpl, ext, &ss_selector, &new_rsp) || seg_fetch_stack(c, ss_selector, new_cpl, EXC_TS, EXC_SS, ext, &st.ss))
            return CPU_FAULT;
        st.rsp = new_rsp;
        st.error = (ss_selector & 0xFFFCu) | ext;
    }
    desc_to_seg(&cs, (uint16_t)((selector & 0xFFFC) | new_cpl), &new_cs);
    if (lma ? !cpu_canonical(c, offset) : offset > new_cs.limit)
        return cpu_raise_error(c, EXC_GP, ext);
    if (exc_push_frame(c, &st, f, return_rip, size, lma || inter, v86))
        return CPU_FAULT;
    if (desc_set_type_bits(c, &cs, SEG_ACCESSED, 0))
        return CPU_FAULT;
    /* commit */
    new_cs.attr |= SEG_ACCESSED;
    new_flags = cpu_eflags(c) & ~(uint32_t)(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
    if (!((gate[1] >> 8) & 1)) /* interrupt gate */
        new_flags &= ~(uint32_t)FLAG_IF;
    c->cpl = (uint8_t)new_cpl;
    if (v86) {
        seg_set_null(c, SEG_GS, 0);
        seg_set_null(c, SEG_FS, 0);
        seg_set_null(c, SEG_DS, 0);
        seg_set_null(c, SEG_ES, 0);
    }
    if (inter)
        c->seg[SEG_SS] = st.ss;
    c->seg[SEG_CS] = new_cs;
    c->rip = offset;
    cpu_set_eflags(c, new_flags);
    cpu_update_mode(c);
    if (lma)
        c->gpr[REG_RSP] = st.rsp;
    else
        stack_set_rsp(c, &st.ss, st.rsp);
    return CPU_OK;
}

/* ---- common ---- */

static void exc_log(struct cpu *c, const struct fault *f, uint64_t rip)
{
    char tail[48];
    if (f->vector == EXC_PF && !(f->flags & (FAULT_EXTERNAL | FAULT_SOFT_INT)))
        snprintf(tail, sizeof tail, " CR2=%016" PRIx64, f->cr2);
    else
        snprintf(tail, sizeof tail, " env->regs[R_EAX]=%016" PRIx64, c->gpr[REG_RAX]);
    emu_log(c->emu, LOG_INT, "%6" PRIu64 ": v=%02x e=%04x i=%d cpl=%u IP=%04x:%016" PRIx64 " pc=%016" PRIx64 " SP=%04x:%016" PRIx64 "%s",
            cpu_insn_count(c), f->vector, (unsigned)f->error, (f->flags & FAULT_SOFT_INT) != 0, c->cpl, c->seg[SEG_CS].selector, rip,
            (c->mode == MODE_LONG ? 0 : c->seg[SEG_CS].base) + rip, c->seg[SEG_SS].selector, c->gpr[REG_RSP], tail);
}

EMU_PRIV int exc_deliver_once(struct cpu *c, const struct fault *f, uint64_t return_rip)
{
    return c->mode == MODE_REAL ? exc_deliver_real(c, f, return_rip) : exc_deliver_protected(c, f, return_rip);
}

enum exc_class { EXC_CLASS_BENIGN, EXC_CLASS_CONTRIBUTORY, EXC_CLASS_PAGE };
static enum exc_class exc_class(const struct fault *f)
{
    if (f->flags & (FAULT_EXTERNAL | FAULT_SOFT_INT | FAULT_ICEBP))
        return EXC_CLASS_BENIGN;
    switch (f->vector) {
    case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP: return EXC_CLASS_CONTRIBUTORY;
    case EXC_PF: return EXC_CLASS_PAGE;
    default: return EXC_CLASS_BENIGN;
    }
}

static void exc_shutdown(struct cpu *c)
{
    c->shutdown = true;
    c->attention = 1;
    emu_log(c->emu, LOG_INT | LOG_CPU_RESET, "Triple fault");
    if (EMU_LOG_ENABLED(c->emu, LOG_CPU_RESET)) {
        struct buf b;
        buf_init(&b, c->emu);
        cpu_print_registers(c, &b);
        if (!b.failed && b.size)
            emu_log(c->emu, LOG_CPU_RESET, "%.*s", (int)(b.size - 1), (const char *)b.data);
        buf_free(&b);
    }
}

static void exc_deliver(struct cpu *c, struct fault f, uint64_t return_rip)
{
    c->halted = false;
    c->interrupt_shadow = 0;
    for (;;) {
        struct fault nested;
        enum exc_class first, second;
        if (f.vector == EXC_PF && (f.flags & FAULT_HAS_ERROR))
            c->cr2 = f.cr2;
        if (EMU_LOG_ENABLED(c->emu, LOG_INT))
            exc_log(c, &f, return_rip);
        if (exc_deliver_once(c, &f, return_rip) == CPU_OK) {
            if (f.vector == EXC_DB && !(f.flags & FAULT_SOFT_INT))
                c->dr[7] &= ~UINT64_C(0x2000); /* GD */
            return;
        }
        nested = c->fault;
        if (f.vector == EXC_DF && !(f.flags & (FAULT_EXTERNAL | FAULT_SOFT_INT))) {
            exc_shutdown(c);
            return;
        }
        first = exc_class(&f);
        second = exc_class(&nested);
        if ((first == EXC_CLASS_CONTRIBUTORY && second == EXC_CLASS_CONTRIBUTORY) || (first == EXC_CLASS_PAGE && second != EXC_CLASS_BENIGN)) {
            if (nested.vector == EXC_PF)
                c->cr2 = nested.cr2;
            f.vector = EXC_DF;
            f.flags = FAULT_HAS_ERROR;
            f.error = 0;
        } else {
            f = nested;
        }
        return_rip = c->rip; /* a task switch may have moved it; else it is what it was for faults */
    }
}

EMU_PRIV void cpu_deliver_fault(struct cpu *c)
{
    struct fault f = c->fault;
    exc_deliver(c, f, f.flags & (FAULT_SOFT_INT | FAULT_ICEBP) ? c->next_rip : c->rip);
}

EMU_PRIV void cpu_deliver_interrupt(struct cpu *c, unsigned vector)
{
    struct fault f;
    memset(&f, 0, sizeof f);
    f.vector = (uint8_t)vector;
    f.flags = FAULT_EXTERNAL;
    if (vector == EXC_NMI)
        c->nmi_blocked = true; /* until IRET */
    exc_deliver(c, f, c->rip);
}

EMU_PRIV void cpu_debug_trap(struct cpu *c, uint64_t dr6_bits)
{
    struct fault f;
    memset(&f, 0, sizeof f);
    f.vector = EXC_DB;
    c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | dr6_bits;
    c->debug_hits = 0;
    exc_deliver(c, f, c->rip);
}

EMU_PRIV int cpu_check_exec_breakpoint(struct cpu *c, uint64_t va)
{
    unsigned n, hit = 0;
    if (!(c->dr[7] & 0xFF) || (c->eflags & FLAG_RF))
        return CPU_OK;
    for (n = 0; n < 4; n++)
        if (((c->dr[7] >> (n * 2)) & 3) && ((c->dr[7] >> (16 + n * 4)) & 3) == 0 && c->dr[n] == va)
            hit |= 1u << n;
    if (!hit)
        return CPU_OK;
    c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | hit;
    return cpu_raise(c, EXC_DB);
}

EMU_PRIV void cpu_check_io_breakpoint(struct cpu *c, uint16_t port, unsigned size)
{
    unsigned n;
    if (!(c->dr[7] & 0xFF) || !(c->cr4 & CR4_DE))
        return;
    for (n = 0; n < 4; n++)
        if (((c->dr[7] >> (n * 2)) & 3) && ((c->dr[7] >> (16 + n * 4)) & 3) == 2) {
            unsigned code = (unsigned)(c->dr[7] >> (18 + n * 4)) & 3, width = code == 3 ? 4 : code == 1 ? 2 : 1;
            uint64_t at = c->dr[n] & ~(uint64_t)(width - 1);
            if (port < at + width && at < (uint64_t)port + size)
                c->debug_hits |= 1u << n;
        }
}

/* ---- INT n, INT3, INTO, INT1: instructions ---- */

static bool exc_v86_redirected(struct cpu *c, unsigned vector, bool *redirected)
{
    /* The 32-byte bitmap lies below the I/O bitmap; bit clear: the program's own handler. */
    const struct seg *tr = &c->seg[SEG_TR];
    uint64_t iomap, bits;
    if (cpu_load_linear(c, tr->base + 0x66, 2, &iomap, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    if (iomap < 32 || iomap - 32 + vector / 8 > tr->limit) {
        *redirected = false;
        return true;
    }
    if (cpu_load_linear(c, tr->base + iomap - 32 + vector / 8, 1, &bits, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    *redirected = !((bits >> (vector & 7)) & 1);
    return true;
}

/* flags: FAULT_SOFT_INT (with FAULT_INT_N for INT imm8), or FAULT_ICEBP for INT1. */
EMU_PRIV int cpu_software_interrupt(struct cpu *c, unsigned vector, unsigned flags)
{
    struct fault f;
    uint64_t rip = c->rip;
    int r;
    memset(&f, 0, sizeof f);
    f.vector = (uint8_t)vector;
    f.flags = (uint8_t)flags;
    if (c->mode == MODE_V86 && (flags & FAULT_INT_N)) {
        bool redirected = false;
        if ((c->cr4 & CR4_VME) && !exc_v86_redirected(c, vector, &redirected))
            return CPU_FAULT;
        if (redirected) {
            r = exc_deliver_v86(c, vector, c->next_rip);
            goto done;
        }
        if ((c->eflags & FLAG_IOPL) != FLAG_IOPL)
            return cpu_raise_error(c, EXC_GP, 0);
    }
    if (EMU_LOG_ENABLED(c->emu, LOG_INT))
        exc_log(c, &f, c->next_rip);
    r = exc_deliver_once(c, &f, c->next_rip);
done:
    if (r == CPU_OK) {
        c->next_rip = c->rip;
        c->rip = rip;
        if (flags & FAULT_ICEBP)
            c->dr[7] &= ~UINT64_C(0x2000);
    }
    return r;
}

/* ======================================== src/cpu/segment.c ======================================== */

/* cpu/segment.c - segment registers, descriptors, the stack.
 *
 * Models     Intel SDM vol. 3 chapter 3.4-3.5 and 5; instruction pages of MOV Sreg, LLDT, LTR, LAR, LSL, VERR, VERW, ARPL.
 * Contract   desc.h and cpu.h list what others call. Order of checks follows the operation sections of the instruction pages.
 * Invariants 1. A load that faults leaves the register as it was.
 *            2. The accessed bit is written to memory before the register changes (the write may fault).
 *            3. A null selector leaves SEG_UNUSABLE: outside of 64-bit mode every access through it faults in cpu_linear().
 */

EMU_PRIV int desc_error(struct cpu *c, unsigned vector, uint16_t selector, unsigned ext)
{
    return cpu_raise_error(c, vector, (selector & 0xFFFCu) | ext);
}

EMU_PRIV int desc_find(struct cpu *c, uint16_t selector, struct desc *d)
{
    uint64_t base, limit, v;
    if (selector & 4) {
        if (c->seg[SEG_LDTR].attr & SEG_UNUSABLE)
            return 1;
        base = c->seg[SEG_LDTR].base;
        limit = c->seg[SEG_LDTR].limit;
    } else {
        base = c->gdtr.base;
        limit = c->gdtr.limit;
    }
    if ((selector | 7u) > limit)
        return 1;
    d->selector = selector;
    d->va = base + (selector & 0xFFF8u);
    d->upper = 0;
    if (cpu_load_linear(c, d->va, 8, &v, ACCESS_READ | ACCESS_SYSTEM))
        return -1;
    d->low = (uint32_t)v;
    d->high = (uint32_t)(v >> 32);
    return 0;
}

EMU_PRIV int desc_fetch(struct cpu *c, uint16_t selector, unsigned vector, unsigned ext, struct desc *d)
{
    int r = desc_find(c, selector, d);
    if (r > 0)
        return desc_error(c, vector, selector, ext);
    return r ? CPU_FAULT : CPU_OK;
}

EMU_PRIV int desc_load_upper(struct cpu *c, struct desc *d, unsigned ext)
{
    uint64_t limit = d->selector & 4 ? c->seg[SEG_LDTR].limit : c->gdtr.limit;
    if ((d->selector | 7u) + 8u > limit)
        return desc_error(c, EXC_GP, d->selector, ext);
    if (cpu_load_linear(c, d->va + 8, 8, &d->upper, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if ((d->upper >> 40) & 0x1F) /* the type field of the upper half must be 0 (SDM 3A figure 5-8) */
        return desc_error(c, EXC_GP, d->selector, ext);
    return CPU_OK;
}

EMU_PRIV void desc_to_seg(const struct desc *d, uint16_t selector, struct seg *s)
{
    s->selector = selector;
    s->attr = (d->high >> 8) & 0xF0FF;
    s->limit = (d->low & 0xFFFF) | (d->high & 0xF0000);
    if (s->attr & SEG_G)
        s->limit = (s->limit << 12) | 0xFFF;
    s->base = ((d->low >> 16) | ((d->high & 0xFF) << 16) | (d->high & 0xFF000000u)) | (d->upper << 32);
}

EMU_PRIV int desc_set_type_bits(struct cpu *c, struct desc *d, unsigned set, unsigned clear)
{
    uint32_t high = (d->high | (set << 8)) & ~(clear << 8);
    if (high == d->high)
        return CPU_OK;
    if (cpu_store_linear(c, d->va + 5, 1, (high >> 8) & 0xFF, ACCESS_WRITE | ACCESS_SYSTEM))
        return CPU_FAULT;
    d->high = high;
    return CPU_OK;
}

EMU_PRIV void seg_set_null(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct seg *s = &c->seg[seg];
    s->selector = selector;
    s->base = 0;
    s->limit = 0;
    s->attr = SEG_UNUSABLE;
    if (seg == SEG_SS)
        s->attr |= (uint32_t)c->cpl << 5;
}

EMU_PRIV void cpu_set_segment_real(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct seg *s = &c->seg[seg];
    s->selector = selector;
    s->base = (uint32_t)selector << 4;
    if (c->mode == MODE_V86 || (c->eflags & FLAG_VM)) {
        s->limit = 0xFFFF;
        s->attr = SEG_P | SEG_DPL | SEG_S | SEG_WRITE_READ | SEG_ACCESSED;
    } else if (s->attr & SEG_UNUSABLE) {
        s->attr = SEG_P | SEG_S | SEG_WRITE_READ | SEG_ACCESSED; /* real mode entered with a null selector: limit stays */
    }
}

static int segment_load_ss(struct cpu *c, uint16_t selector)
{
    struct desc d;
    if (sel_is_null(selector)) {
        if (c->mode != MODE_LONG || c->cpl == 3 || (selector & 3) != c->cpl)
            return cpu_raise_error(c, EXC_GP, 0);
        seg_set_null(c, SEG_SS, selector);
        return CPU_OK;
    }
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if ((selector & 3) != c->cpl || desc_dpl(&d) != c->cpl || !desc_is_segment(&d) || (desc_type(&d) & (SEG_CODE | SEG_WRITE_READ)) != SEG_WRITE_READ)
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_SS, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_SS]);
    return CPU_OK;
}

EMU_PRIV int cpu_load_segment(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct desc d;
    unsigned type, rpl = selector & 3;
    if (c->mode == MODE_REAL || c->mode == MODE_V86) {
        cpu_set_segment_real(c, seg, selector);
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (seg == SEG_SS) {
        if (segment_load_ss(c, selector))
            return CPU_FAULT;
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (sel_is_null(selector)) {
        seg_set_null(c, seg, selector);
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    type = desc_type(&d);
    if (!desc_is_segment(&d) || (type & (SEG_CODE | SEG_WRITE_READ)) == SEG_CODE)
        return desc_error(c, EXC_GP, selector, 0);
    if ((type & (SEG_CODE | SEG_DOWN_CONFORM)) != (SEG_CODE | SEG_DOWN_CONFORM) && (rpl > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[seg]);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV void seg_drop_inner(struct cpu *c, unsigned new_cpl)
{
    static const uint8_t which[4] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    unsigned k;
    for (k = 0; k < 4; k++) {
        const struct seg *s = &c->seg[which[k]];
        if (s->attr & SEG_UNUSABLE)
            continue;
        if ((s->attr & (SEG_CODE | SEG_DOWN_CONFORM)) == (SEG_CODE | SEG_DOWN_CONFORM))
            continue;
        if (((s->attr & SEG_DPL) >> 5) < new_cpl)
            seg_set_null(c, which[k], 0);
    }
}

EMU_PRIV int seg_fetch_stack(struct cpu *c, uint16_t selector, unsigned cpl, unsigned vector, unsigned np_vector, unsigned ext, struct seg *out)
{
    struct desc d;
    if (sel_is_null(selector))
        return cpu_raise_error(c, vector, ext);
    if (desc_fetch(c, selector, vector, ext, &d))
        return CPU_FAULT;
    if ((selector & 3u) != cpl || desc_dpl(&d) != cpl || !desc_is_segment(&d) || (desc_type(&d) & (SEG_CODE | SEG_WRITE_READ)) != SEG_WRITE_READ)
        return desc_error(c, vector, selector, ext);
    if (!desc_present(&d))
        return desc_error(c, np_vector, selector, ext);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, out);
    return CPU_OK;
}

/* vector: EXC_GP for LLDT, EXC_TS in a task switch. */
EMU_PRIV int desc_load_ldtr(struct cpu *c, uint16_t selector, unsigned vector)
{
    struct desc d;
    if (sel_is_null(selector)) {
        seg_set_null(c, SEG_LDTR, selector);
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (selector & 4)
        return desc_error(c, vector, selector, 0);
    if (desc_fetch(c, selector, vector, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || desc_type(&d) != DESC_LDT)
        return desc_error(c, vector, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, vector == EXC_TS ? EXC_TS : EXC_NP, selector, 0);
    if ((c->efer & EFER_LMA) && desc_load_upper(c, &d, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_LDTR]);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int desc_load_tr(struct cpu *c, uint16_t selector)
{
    struct desc d;
    bool lma = (c->efer & EFER_LMA) != 0;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (selector & 4)
        return desc_error(c, EXC_GP, selector, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || (desc_type(&d) != DESC_TSS32 && (lma || desc_type(&d) != DESC_TSS16)))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (lma && desc_load_upper(c, &d, 0))
        return CPU_FAULT;
    if (desc_set_type_bits(c, &d, 2, 0)) /* busy */
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_TR]);
    cpu_update_mode(c);
    return CPU_OK;
}

/* ---- stack ---- */

EMU_PRIV uint64_t seg_stack_mask(const struct cpu *c, const struct seg *ss)
{
    if (c->mode == MODE_LONG)
        return UINT64_MAX;
    return ss->attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu;
}

EMU_PRIV void stack_set_rsp(struct cpu *c, const struct seg *ss, uint64_t rsp)
{
    uint64_t mask = seg_stack_mask(c, ss);
    if (mask == 0xFFFF)
        cpu_put16(c, REG_RSP, (uint16_t)rsp);
    else
        c->gpr[REG_RSP] = rsp & mask;
}

EMU_PRIV int cpu_push(struct cpu *c, uint64_t value, unsigned size)
{
    uint64_t offset = (c->gpr[REG_RSP] - size) & seg_stack_mask(c, &c->seg[SEG_SS]);
    if (cpu_store(c, SEG_SS, offset, size, value))
        return CPU_FAULT;
    stack_set_rsp(c, &c->seg[SEG_SS], offset);
    return CPU_OK;
}

EMU_PRIV int cpu_pop(struct cpu *c, uint64_t *value, unsigned size)
{
    uint64_t mask = seg_stack_mask(c, &c->seg[SEG_SS]), offset = c->gpr[REG_RSP] & mask;
    if (cpu_load(c, SEG_SS, offset, size, value))
        return CPU_FAULT;
    stack_set_rsp(c, &c->seg[SEG_SS], (offset + size) & mask);
    return CPU_OK;
}

EMU_PRIV int stack_push(struct cpu *c, struct stack *s, uint64_t value, unsigned size)
{
    uint64_t mask = s->wide ? UINT64_MAX : s->ss.attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu, offset = (s->rsp - size) & mask, va = offset, last;
    if (s->wide) {
        if (!cpu_canonical(c, va) || !cpu_canonical(c, va + size - 1))
            return cpu_raise_error(c, EXC_SS, s->error);
    } else {
        last = offset + size - 1;
        if (s->ss.attr & SEG_DOWN_CONFORM) {
            if (offset <= s->ss.limit || last > (s->ss.attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu))
                return cpu_raise_error(c, EXC_SS, s->error);
        } else if (last > s->ss.limit) {
            return cpu_raise_error(c, EXC_SS, s->error);
        }
        va = (s->ss.base + offset) & 0xFFFFFFFFu;
    }
    if (cpu_store_linear(c, va, size, value, ACCESS_WRITE | s->access))
        return CPU_FAULT;
    s->rsp = (s->rsp & ~mask) | offset;
    return CPU_OK;
}

/* ======================================== src/cpu/control.c ======================================== */

/* cpu/control.c - far transfers, gates, tasks, fast system calls.
 *
 * Models     Intel SDM vol. 2 JMP, CALL, RET, IRET, SYSCALL, SYSRET, SYSENTER, SYSEXIT (operation sections); vol. 3 chapter 5.8 (gates), 7
 *            (tasks). Intel's choices where vendors differ: SYSENTER works in compatibility mode, SYSCALL does not; SYSRET to a
 *            non-canonical RCX faults at CPL 0.
 * Contract   Called as instruction bodies (cpu->rip, next_rip set). Success leaves the target in next_rip; the engine makes it rip.
 * Theory     Everything is read and checked first, pushes go to a struct stack, and only then registers change: a fault leaves the
 *            old state. The exception is a task switch, whose later faults belong to the new task (SDM 3A 7.3): there rip, too, is
 *            already the new task's.
 * Invariants 1. CPL changes only together with CS.
 *            2. After a return to an outer level no data segment keeps a descriptor of an inner one.
 */

static bool control_lma(const struct cpu *c) { return (c->efer & EFER_LMA) != 0; }

/* Checks the target offset in the code segment d: canonical in 64-bit code, else within the limit. */
static int control_check_offset(struct cpu *c, const struct seg *cs, uint64_t offset)
{
    if (control_lma(c) && (cs->attr & SEG_L)) {
        if (!cpu_canonical(c, offset))
            return cpu_raise_error(c, EXC_GP, 0);
    } else if (offset > cs->limit) {
        return cpu_raise_error(c, EXC_GP, 0);
    }
    return CPU_OK;
}

static int control_load_cs(struct cpu *c, struct desc *d, unsigned cpl, struct seg *out)
{
    if (desc_set_type_bits(c, d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(d, (uint16_t)((d->selector & 0xFFFC) | cpl), out);
    return CPU_OK;
}

static void control_commit_cs(struct cpu *c, const struct seg *cs, unsigned cpl, uint64_t rip)
{
    c->seg[SEG_CS] = *cs;
    c->cpl = (uint8_t)cpl;
    c->next_rip = rip;
    cpu_update_mode(c);
}

static void control_stack_here(struct cpu *c, struct stack *st)
{
    st->ss = c->seg[SEG_SS];
    st->rsp = c->gpr[REG_RSP];
    st->wide = c->mode == MODE_LONG;
    st->access = 0;
    st->error = 0;
}

static uint64_t control_cut(uint64_t v, unsigned size) { return size == 8 ? v : size == 4 ? v & 0xFFFFFFFFu : v & 0xFFFF; }

/* ---- task switch (SDM 3A 7.3) ---- */

struct task_image { /* the register part of a TSS, 16- or 32-bit */
    uint32_t cr3, eip, eflags, gpr[8];
    uint16_t seg[6], ldt, trap;
};
enum { TASK_LIMIT16 = 0x2B, TASK_LIMIT32 = 0x67 };

static int task_read(struct cpu *c, uint64_t base, bool wide, struct task_image *t)
{
    uint8_t b[104];
    unsigned k, size = wide ? 104 : 44;
    memset(t, 0, sizeof *t);
    if (cpu_copy_linear(c, base, b, size, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if (wide) {
        t->cr3 = ld32le(b + 0x1C);
        t->eip = ld32le(b + 0x20);
        t->eflags = ld32le(b + 0x24);
        for (k = 0; k < 8; k++)
            t->gpr[k] = ld32le(b + 0x28 + k * 4);
        for (k = 0; k < 6; k++)
            t->seg[k] = ld16le(b + 0x48 + k * 4);
        t->ldt = ld16le(b + 0x60);
        t->trap = ld16le(b + 0x64) & 1;
    } else {
        t->eip = ld16le(b + 0x0E);
        t->eflags = ld16le(b + 0x10);
        for (k = 0; k < 8; k++)
            t->gpr[k] = ld16le(b + 0x12 + k * 2) | 0xFFFF0000u; /* the upper halves become ones on hardware of the 386 line */
        for (k = 0; k < 4; k++)
            t->seg[k] = ld16le(b + 0x22 + k * 2);
        t->ldt = ld16le(b + 0x2A);
    }
    return CPU_OK;
}

/* Saves the dynamic fields: EIP, EFLAGS, registers, segment selectors. */
static int task_save(struct cpu *c, uint64_t base, bool wide, uint32_t eip, uint32_t eflags)
{
    uint8_t b[64];
    unsigned k;
    if (wide) {
        st32le(b, eip);
        st32le(b + 4, eflags);
        for (k = 0; k < 8; k++)
            st32le(b + 8 + k * 4, (uint32_t)c->gpr[k]);
        if (cpu_copy_linear(c, base + 0x20, b, 40, ACCESS_WRITE | ACCESS_SYSTEM))
            return CPU_FAULT;
        for (k = 0; k < 6; k++)
            if (cpu_store_linear(c, base + 0x48 + k * 4, 2, c->seg[k].selector, ACCESS_WRITE | ACCESS_SYSTEM))
                return CPU_FAULT;
        return CPU_OK;
    }
    st16le(b, (uint16_t)eip);
    st16le(b + 2, (uint16_t)eflags);
    for (k = 0; k < 8; k++)
        st16le(b + 4 + k * 2, (uint16_t)c->gpr[k]);
    for (k = 0; k < 4; k++)
        st16le(b + 20 + k * 2, c->seg[k].selector);
    return cpu_copy_linear(c, base + 0x0E, b, 28, ACCESS_WRITE | ACCESS_SYSTEM);
}

/* Loads one data segment of the new task; faults are #TS, #NP or #SS with the selector. */
static int task_load_data(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct desc d;
    unsigned rpl = selector & 3;
    if (seg == SEG_SS) {
        struct seg ss;
        if (seg_fetch_stack(c, selector, c->cpl, EXC_TS, EXC_SS, 0, &ss))
            return CPU_FAULT;
        c->seg[SEG_SS] = ss;
        return CPU_OK;
    }
    if (sel_is_null(selector))
        return CPU_OK;
    if (desc_fetch(c, selector, EXC_TS, 0, &d))
        return CPU_FAULT;
    if (!desc_is_segment(&d) || (desc_type(&d) & (SEG_CODE | SEG_WRITE_READ)) == SEG_CODE)
        return desc_error(c, EXC_TS, selector, 0);
    if (!(desc_is_code(&d) && desc_conforming(&d)) && (rpl > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
        return desc_error(c, EXC_TS, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[seg]);
    return CPU_OK;
}

static int task_load_code(struct cpu *c, uint16_t selector)
{
    struct desc d;
    if (sel_is_null(selector))
        return desc_error(c, EXC_TS, selector, 0);
    if (desc_fetch(c, selector, EXC_TS, 0, &d))
        return CPU_FAULT;
    if (!desc_is_code(&d))
        return desc_error(c, EXC_TS, selector, 0);
    if (desc_conforming(&d) ? desc_dpl(&d) > (selector & 3u) : desc_dpl(&d) != (selector & 3u))
        return desc_error(c, EXC_TS, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_CS]);
    return CPU_OK;
}

/* Steps 12 and 13: the new task's descriptors, with its selectors already in place. */
static int task_load_segments(struct cpu *c, const struct task_image *t)
{
    static const uint8_t order[5] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    unsigned k;
    if (desc_load_ldtr(c, t->ldt, EXC_TS))
        return CPU_FAULT;
    if (c->eflags & FLAG_VM) {
        c->cpl = 3;
        for (k = 0; k < 6; k++)
            cpu_set_segment_real(c, k, t->seg[k]);
        cpu_update_mode(c);
        return CPU_OK;
    }
    c->cpl = t->seg[SEG_CS] & 3;
    if (task_load_code(c, t->seg[SEG_CS]))
        return CPU_FAULT;
    cpu_update_mode(c);
    for (k = 0; k < 5; k++)
        if (task_load_data(c, order[k], t->seg[order[k]]))
            return CPU_FAULT;
    if (t->eip > c->seg[SEG_CS].limit)
        return cpu_raise_error(c, EXC_GP, 0);
    return CPU_OK;
}

EMU_PRIV int task_switch(struct cpu *c, struct desc *d, enum task_source source, bool has_error, uint32_t error, uint64_t return_ip, unsigned ext)
{
    bool wide = (desc_type(d) & 8) != 0, old_wide = (c->seg[SEG_TR].attr & 8) != 0;
    struct task_image t;
    struct seg tr;
    struct desc old;
    uint64_t old_base = c->seg[SEG_TR].base;
    uint32_t old_flags = cpu_eflags(c);
    uint16_t old_tr = c->seg[SEG_TR].selector;
    unsigned k;
    int r;
    desc_to_seg(d, d->selector, &tr);
    if (tr.limit < (wide ? (unsigned)TASK_LIMIT32 : (unsigned)TASK_LIMIT16))
        return desc_error(c, EXC_TS, d->selector, ext);
    if ((c->seg[SEG_TR].attr & SEG_UNUSABLE) || c->seg[SEG_TR].limit < (old_wide ? (unsigned)TASK_LIMIT32 : (unsigned)TASK_LIMIT16))
        return desc_error(c, EXC_TS, old_tr, ext);
    if (task_read(c, tr.base, wide, &t))
        return CPU_FAULT;
    if (source == TASK_IRET)
        old_flags &= ~(uint32_t)FLAG_NT;
    if (source == TASK_JMP || source == TASK_IRET) {
        if (desc_fetch(c, old_tr, EXC_TS, ext, &old) || desc_set_type_bits(c, &old, 0, 2))
            return CPU_FAULT;
    }
    if (task_save(c, old_base, old_wide, (uint32_t)return_ip, old_flags))
        return CPU_FAULT;
    if (source == TASK_CALL || source == TASK_INT) {
        if (cpu_store_linear(c, tr.base, 2, old_tr, ACCESS_WRITE | ACCESS_SYSTEM))
            return CPU_FAULT;
        t.eflags |= FLAG_NT;
    }
    if (source != TASK_IRET && desc_set_type_bits(c, d, 2, 0))
        return CPU_FAULT;
    /* Commit: from here faults happen in the new task. */
    desc_to_seg(d, d->selector, &tr);
    tr.attr |= 2;
    c->seg[SEG_TR] = tr;
    c->cr0 |= CR0_TS;
    if (wide && (c->cr0 & CR0_PG) && t.cr3 != c->cr3) {
        tlb_set_cr3(c, t.cr3, false);
        if ((c->cr4 & CR4_PAE) && mmu_load_pdptes(c, t.cr3))
            memset(c->pdpte, 0, sizeof c->pdpte);
    }
    for (k = 0; k < 8; k++)
        c->gpr[k] = t.gpr[k];
    c->rip = c->next_rip = t.eip;
    if (!wide)
        t.eflags |= cpu_eflags(c) & 0xFFFF0000u & ~(uint32_t)(FLAG_RF | FLAG_VM);
    cpu_set_eflags(c, (t.eflags & 0x003F7FD7u) | 2);
    for (k = 0; k < 6; k++) {
        c->cpl = 3;
        seg_set_null(c, k, t.seg[k]);
    }
    c->cpl = t.seg[SEG_CS] & 3;
    c->seg[SEG_CS].limit = 0xFFFFFFFFu; /* until its descriptor has been read: delivery of a fault looks at selector and CPL only */
    if (c->dr[7] & 0x155) { /* local enables end with the task */
        c->dr[7] &= ~UINT64_C(0x155);
        tlb_flush_all(c);
    }
    r = task_load_segments(c, &t);
    cpu_update_mode(c);
    if (r)
        return CPU_FAULT;
    if (has_error) {
        if (cpu_push(c, error, wide ? 4 : 2))
            return CPU_FAULT;
    }
    if (t.trap) { /* BT: before the first instruction of the new task */
        c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | (1u << 15);
        c->debug_hits = 0;
        return cpu_raise(c, EXC_DB);
    }
    return CPU_OK;
}

/* ---- far JMP and CALL ---- */

static int control_far_real(struct cpu *c, uint16_t selector, uint64_t offset, unsigned opsize, bool call)
{
    struct stack st;
    if (offset > c->seg[SEG_CS].limit)
        return cpu_raise_error(c, EXC_GP, 0);
    if (call) {
        control_stack_here(c, &st);
        if (stack_push(c, &st, c->seg[SEG_CS].selector, opsize) || stack_push(c, &st, control_cut(c->next_rip, opsize), opsize))
            return CPU_FAULT;
        stack_set_rsp(c, &st.ss, st.rsp);
    }
    cpu_set_segment_real(c, SEG_CS, selector);
    c->next_rip = offset;
    cpu_update_mode(c);
    return CPU_OK;
}

/* A direct transfer to a code segment: privilege does not change. */
static int control_far_code(struct cpu *c, struct desc *d, uint64_t offset, unsigned opsize, bool call)
{
    struct seg cs;
    struct stack st;
    if (desc_conforming(d) ? desc_dpl(d) > c->cpl : (d->selector & 3u) > c->cpl || desc_dpl(d) != c->cpl)
        return desc_error(c, EXC_GP, d->selector, 0);
    if (control_lma(c) && desc_long(d) && desc_db(d))
        return desc_error(c, EXC_GP, d->selector, 0);
    if (!desc_present(d))
        return desc_error(c, EXC_NP, d->selector, 0);
    desc_to_seg(d, d->selector, &cs);
    if (!(control_lma(c) && (cs.attr & SEG_L)))
        offset &= 0xFFFFFFFFu;
    if (control_check_offset(c, &cs, offset))
        return CPU_FAULT;
    if (call) {
        control_stack_here(c, &st);
        if (stack_push(c, &st, c->seg[SEG_CS].selector, opsize) || stack_push(c, &st, control_cut(c->next_rip, opsize), opsize))
            return CPU_FAULT;
    }
    if (control_load_cs(c, d, c->cpl, &cs))
        return CPU_FAULT;
    if (call)
        stack_set_rsp(c, &st.ss, st.rsp);
    control_commit_cs(c, &cs, c->cpl, offset);
    return CPU_OK;
}

/* CALL through a gate to a more privileged level: new stack, parameters copied (SDM 2A CALL, MORE-PRIVILEGE). */
static int control_gate_inner(struct cpu *c, const struct desc *gate, struct desc *d, uint64_t offset, unsigned size)
{
    bool lma = control_lma(c);
    unsigned cpl = desc_dpl(d), count = lma ? 0 : gate->high & 31, k;
    uint16_t ss_selector = (uint16_t)cpl;
    uint64_t rsp, param, old_mask = seg_stack_mask(c, &c->seg[SEG_SS]);
    struct stack st;
    struct seg cs;
    uint64_t params[32];
    memset(&st, 0, sizeof st);
    st.wide = lma;
    st.access = ACCESS_SYSTEM;
    if (lma) {
        const struct seg *tr = &c->seg[SEG_TR];
        if ((tr->attr & SEG_UNUSABLE) || 4 + cpl * 8 + 7 > tr->limit)
            return desc_error(c, EXC_TS, tr->selector, 0);
        if (cpu_load_linear(c, tr->base + 4 + cpl * 8, 8, &rsp, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
        st.ss.selector = ss_selector;
        st.ss.attr = SEG_UNUSABLE | cpl << 5;
    } else {
        if (tss_stack(c, cpl, 0, &ss_selector, &rsp) || seg_fetch_stack(c, ss_selector, cpl, EXC_TS, EXC_SS, 0, &st.ss))
            return CPU_FAULT;
        st.error = ss_selector & 0xFFFCu;
    }
    st.rsp = rsp;
    for (k = 0; k < count; k++)
        if (cpu_load(c, SEG_SS, (c->gpr[REG_RSP] + (uint64_t)k * size) & old_mask, size, &params[k]))
            return CPU_FAULT;
    if (stack_push(c, &st, c->seg[SEG_SS].selector, size) || stack_push(c, &st, control_cut(c->gpr[REG_RSP], size), size))
        return CPU_FAULT;
    for (k = count; k > 0; k--) {
        param = params[k - 1];
        if (stack_push(c, &st, param, size))
            return CPU_FAULT;
    }
    if (stack_push(c, &st, c->seg[SEG_CS].selector, size) || stack_push(c, &st, control_cut(c->next_rip, size), size))
        return CPU_FAULT;
    desc_to_seg(d, d->selector, &cs);
    if (control_check_offset(c, &cs, offset) || control_load_cs(c, d, cpl, &cs))
        return CPU_FAULT;
    c->seg[SEG_SS] = st.ss;
    control_commit_cs(c, &cs, cpl, offset);
    stack_set_rsp(c, &st.ss, st.rsp);
    return CPU_OK;
}

static int control_far_gate(struct cpu *c, struct desc *gate, bool call)
{
    bool lma = control_lma(c);
    unsigned size = lma ? 8 : desc_type(gate) == DESC_CALL32 ? 4 : 2;
    uint16_t selector = (uint16_t)(gate->low >> 16);
    uint64_t offset = (gate->low & 0xFFFF) | (gate->high & 0xFFFF0000u);
    struct desc d;
    struct seg cs;
    struct stack st;
    if (desc_dpl(gate) < c->cpl || desc_dpl(gate) < (gate->selector & 3u))
        return desc_error(c, EXC_GP, gate->selector, 0);
    if (lma && desc_load_upper(c, gate, 0))
        return CPU_FAULT;
    if (!desc_present(gate))
        return desc_error(c, EXC_NP, gate->selector, 0);
    if (lma)
        offset |= gate->upper << 32;
    if (size == 2)
        offset &= 0xFFFF;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if (!desc_is_code(&d) || desc_dpl(&d) > c->cpl || (!call && !desc_conforming(&d) && desc_dpl(&d) != c->cpl))
        return desc_error(c, EXC_GP, selector, 0);
    if (lma && (!desc_long(&d) || desc_db(&d)))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (call && !desc_conforming(&d) && desc_dpl(&d) < c->cpl)
        return control_gate_inner(c, gate, &d, offset, size);
    desc_to_seg(&d, selector, &cs);
    if (control_check_offset(c, &cs, offset))
        return CPU_FAULT;
    if (call) {
        control_stack_here(c, &st);
        st.wide = lma;
        if (stack_push(c, &st, c->seg[SEG_CS].selector, size) || stack_push(c, &st, control_cut(c->next_rip, size), size))
            return CPU_FAULT;
    }
    if (control_load_cs(c, &d, c->cpl, &cs))
        return CPU_FAULT;
    control_commit_cs(c, &cs, c->cpl, offset);
    if (call)
        stack_set_rsp(c, &st.ss, st.rsp);
    return CPU_OK;
}

static int control_far_task(struct cpu *c, struct desc *d, bool call, bool by_gate)
{
    if (by_gate) {
        uint16_t tss = (uint16_t)(d->low >> 16);
        if (sel_is_null(tss) || (tss & 4))
            return desc_error(c, EXC_GP, tss, 0);
        if (desc_fetch(c, tss, EXC_GP, 0, d))
            return CPU_FAULT;
        if (desc_is_segment(d) || (desc_type(d) != DESC_TSS16 && desc_type(d) != DESC_TSS32))
            return desc_error(c, EXC_GP, tss, 0);
    }
    if (!desc_present(d))
        return desc_error(c, EXC_NP, d->selector, 0);
    return task_switch(c, d, call ? TASK_CALL : TASK_JMP, false, 0, c->next_rip, 0);
}

EMU_PRIV int cpu_far_transfer(struct cpu *c, uint16_t selector, uint64_t offset, unsigned opsize, bool call)
{
    struct desc d;
    unsigned type;
    if (c->mode == MODE_REAL || c->mode == MODE_V86)
        return control_far_real(c, selector, offset, opsize, call);
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d)) {
        if (!desc_is_code(&d))
            return desc_error(c, EXC_GP, selector, 0);
        return control_far_code(c, &d, offset, opsize, call);
    }
    type = desc_type(&d);
    if (control_lma(c)) {
        if (type != DESC_CALL32)
            return desc_error(c, EXC_GP, selector, 0);
        return control_far_gate(c, &d, call);
    }
    switch (type) {
    case DESC_CALL16:
    case DESC_CALL32:
        return control_far_gate(c, &d, call);
    case DESC_TASK_GATE:
    case DESC_TSS16:
    case DESC_TSS32:
        if (desc_dpl(&d) < c->cpl || desc_dpl(&d) < (selector & 3u))
            return desc_error(c, EXC_GP, selector, 0);
        if (type == DESC_TASK_GATE && !desc_present(&d))
            return desc_error(c, EXC_NP, selector, 0);
        if (type != DESC_TASK_GATE && (selector & 4))
            return desc_error(c, EXC_GP, selector, 0);
        return control_far_task(c, &d, call, type == DESC_TASK_GATE);
    default:
        return desc_error(c, EXC_GP, selector, 0);
    }
}

/* ---- returns ---- */

/* Reads a word of the present stack, `at` bytes above its top. */
static int control_peek(struct cpu *c, unsigned at, unsigned size, uint64_t *v)
{
    return cpu_load(c, SEG_SS, (c->gpr[REG_RSP] + at) & seg_stack_mask(c, &c->seg[SEG_SS]), size, v);
}

/* The code segment of a return: RPL of the selector is the new CPL. */
static int control_return_cs(struct cpu *c, uint16_t selector, struct desc *d)
{
    unsigned rpl = selector & 3;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, d))
        return CPU_FAULT;
    if (!desc_is_code(d) || rpl < c->cpl || (desc_conforming(d) ? desc_dpl(d) > rpl : desc_dpl(d) != rpl))
        return desc_error(c, EXC_GP, selector, 0);
    if (control_lma(c) && desc_long(d) && desc_db(d))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(d))
        return desc_error(c, EXC_NP, selector, 0);
    return CPU_OK;
}

/* The stack segment of a return to `rpl`. wide: to 64-bit code, where a null selector will do below CPL 3. */
static int control_return_ss(struct cpu *c, uint16_t selector, unsigned rpl, bool wide, struct seg *out)
{
    if (sel_is_null(selector)) {
        if (!wide || rpl == 3 || (selector & 3u) != rpl)
            return cpu_raise_error(c, EXC_GP, 0);
        memset(out, 0, sizeof *out);
        out->selector = selector;
        out->attr = SEG_UNUSABLE | rpl << 5;
        return CPU_OK;
    }
    return seg_fetch_stack(c, selector, rpl, EXC_GP, EXC_SS, 0, out);
}

EMU_PRIV int cpu_far_return(struct cpu *c, unsigned opsize, unsigned release)
{
    uint64_t rip, cs_selector, rsp, ss_selector, mask = seg_stack_mask(c, &c->seg[SEG_SS]);
    struct desc d;
    struct seg cs, ss;
    unsigned rpl;
    bool wide;
    if (control_peek(c, 0, opsize, &rip) || control_peek(c, opsize, opsize, &cs_selector))
        return CPU_FAULT;
    if (c->mode == MODE_REAL || c->mode == MODE_V86) {
        if (rip > c->seg[SEG_CS].limit)
            return cpu_raise_error(c, EXC_GP, 0);
        cpu_set_segment_real(c, SEG_CS, (uint16_t)cs_selector);
        stack_set_rsp(c, &c->seg[SEG_SS], (c->gpr[REG_RSP] + 2 * opsize + release) & mask);
        c->next_rip = rip;
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (control_return_cs(c, (uint16_t)cs_selector, &d))
        return CPU_FAULT;
    rpl = cs_selector & 3;
    wide = control_lma(c) && desc_long(&d);
    if (rpl == c->cpl) {
        desc_to_seg(&d, (uint16_t)cs_selector, &cs);
        if (control_check_offset(c, &cs, rip) || control_load_cs(c, &d, rpl, &cs))
            return CPU_FAULT;
        stack_set_rsp(c, &c->seg[SEG_SS], c->gpr[REG_RSP] + 2 * opsize + release);
        control_commit_cs(c, &cs, rpl, rip);
        return CPU_OK;
    }
    if (control_peek(c, 2 * opsize + release, opsize, &rsp) || control_peek(c, 3 * opsize + release, opsize, &ss_selector))
        return CPU_FAULT;
    if (control_return_ss(c, (uint16_t)ss_selector, rpl, wide, &ss))
        return CPU_FAULT;
    desc_to_seg(&d, (uint16_t)cs_selector, &cs);
    if (control_check_offset(c, &cs, rip) || control_load_cs(c, &d, rpl, &cs))
        return CPU_FAULT;
    c->seg[SEG_SS] = ss;
    control_commit_cs(c, &cs, rpl, rip);
    stack_set_rsp(c, &ss, rsp + release);
    seg_drop_inner(c, rpl);
    cpu_update_mode(c);
    return CPU_OK;
}

/* EFLAGS that an IRET at the present CPL may change. */
static uint32_t control_iret_flags(const struct cpu *c, uint32_t value, unsigned opsize)
{
    uint32_t old = cpu_eflags(c), mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    if (opsize > 2)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (c->cpl <= ((old & FLAG_IOPL) >> 12))
        mask |= FLAG_IF;
    if (c->cpl == 0) {
        mask |= FLAG_IOPL;
        if (opsize > 2)
            mask |= FLAG_VIF | FLAG_VIP;
    }
    if (!cpu_has(c, CPU_VME) && !cpu_has(c, CPU_LM))
        mask &= ~(uint32_t)(FLAG_VIF | FLAG_VIP);
    return (old & ~mask) | (value & mask) | 2;
}

static void control_iret_done(struct cpu *c, uint32_t flags)
{
    c->nmi_blocked = false;
    /* RF matters to instruction breakpoints only; without any it is dropped at once, so that nobody need clear it later. */
    if (!(c->mode_key & KEY_DEBUG))
        flags &= ~(uint32_t)FLAG_RF;
    cpu_set_eflags(c, flags);
    cpu_update_mode(c);
}

static int control_iret_real(struct cpu *c, unsigned opsize)
{
    uint64_t rip, cs, fl;
    uint32_t flags, old = cpu_eflags(c), mask;
    bool vme = false;
    if (c->mode == MODE_V86 && (old & FLAG_IOPL) != FLAG_IOPL) {
        if (!(c->cr4 & CR4_VME) || opsize != 2)
            return cpu_raise_error(c, EXC_GP, 0);
        vme = true;
    }
    if (control_peek(c, 0, opsize, &rip) || control_peek(c, opsize, opsize, &cs) || control_peek(c, 2 * opsize, opsize, &fl))
        return CPU_FAULT;
    if (rip > c->seg[SEG_CS].limit)
        return cpu_raise_error(c, EXC_GP, 0);
    flags = (uint32_t)fl;
    if (vme) { /* SDM 3B 20.3.3.5: the program's IF is VIF */
        if ((flags & FLAG_TF) || ((old & FLAG_VIP) && (flags & FLAG_IF)))
            return cpu_raise_error(c, EXC_GP, 0);
        mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
        flags = (old & ~mask & ~(uint32_t)FLAG_VIF) | (flags & mask) | (flags & FLAG_IF ? FLAG_VIF : 0);
    } else {
        mask = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT | (c->mode == MODE_REAL ? FLAG_IOPL : 0);
        if (opsize == 4)
            mask |= FLAG_RF | FLAG_AC | FLAG_ID;
        flags = (old & ~mask) | (flags & mask);
    }
    cpu_set_segment_real(c, SEG_CS, (uint16_t)cs);
    stack_set_rsp(c, &c->seg[SEG_SS], c->gpr[REG_RSP] + 3 * opsize);
    c->next_rip = rip;
    control_iret_done(c, flags | 2);
    return CPU_OK;
}

static int control_iret_v86(struct cpu *c, uint64_t rip, uint16_t cs, uint32_t flags)
{
    uint64_t rsp, sel[5]; /* SS ES DS FS GS */
    unsigned k;
    static const uint8_t which[5] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    if (control_peek(c, 12, 4, &rsp))
        return CPU_FAULT;
    for (k = 0; k < 5; k++)
        if (control_peek(c, 16 + 4 * k, 4, &sel[k]))
            return CPU_FAULT;
    c->nmi_blocked = false;
    c->cpl = 3;
    cpu_set_eflags(c, (flags & 0x003F7FD7u) | 2);
    cpu_set_segment_real(c, SEG_CS, cs);
    for (k = 0; k < 5; k++)
        cpu_set_segment_real(c, which[k], (uint16_t)sel[k]);
    c->gpr[REG_RSP] = rsp & 0xFFFFFFFFu;
    c->next_rip = rip & 0xFFFF;
    cpu_update_mode(c);
    return CPU_OK;
}

static int control_iret_task(struct cpu *c)
{
    uint64_t link;
    struct desc d;
    if (control_lma(c))
        return cpu_raise_error(c, EXC_GP, 0);
    if (cpu_load_linear(c, c->seg[SEG_TR].base, 2, &link, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if (sel_is_null((uint16_t)link) || (link & 4))
        return desc_error(c, EXC_TS, (uint16_t)link, 0);
    if (desc_fetch(c, (uint16_t)link, EXC_TS, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || (desc_type(&d) != DESC_TSS16_BUSY && desc_type(&d) != DESC_TSS32_BUSY))
        return desc_error(c, EXC_TS, (uint16_t)link, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, (uint16_t)link, 0);
    return task_switch(c, &d, TASK_IRET, false, 0, c->next_rip, 0);
}

EMU_PRIV int cpu_iret(struct cpu *c, unsigned opsize)
{
    uint64_t rip, cs_selector, fl, rsp = 0, ss_selector = 0;
    struct desc d;
    struct seg cs, ss;
    unsigned rpl;
    uint32_t flags;
    bool wide, with_stack;
    if (c->mode == MODE_REAL || c->mode == MODE_V86)
        return control_iret_real(c, opsize);
    if (c->eflags & FLAG_NT)
        return control_iret_task(c);
    if (control_peek(c, 0, opsize, &rip) || control_peek(c, opsize, opsize, &cs_selector) || control_peek(c, 2 * opsize, opsize, &fl))
        return CPU_FAULT;
    if (!control_lma(c) && opsize == 4 && (fl & FLAG_VM) && c->cpl == 0)
        return control_iret_v86(c, rip, (uint16_t)cs_selector, (uint32_t)fl);
    if (control_return_cs(c, (uint16_t)cs_selector, &d))
        return CPU_FAULT;
    rpl = cs_selector & 3;
    wide = control_lma(c) && desc_long(&d);
    with_stack = c->mode == MODE_LONG || rpl != c->cpl;
    if (with_stack) {
        if (control_peek(c, 3 * opsize, opsize, &rsp) || control_peek(c, 4 * opsize, opsize, &ss_selector))
            return CPU_FAULT;
        if (control_return_ss(c, (uint16_t)ss_selector, rpl, wide, &ss))
            return CPU_FAULT;
    }
    desc_to_seg(&d, (uint16_t)cs_selector, &cs);
    if (control_check_offset(c, &cs, rip) || control_load_cs(c, &d, rpl, &cs))
        return CPU_FAULT;
    flags = control_iret_flags(c, (uint32_t)fl, opsize);
    if (with_stack) {
        bool outward = rpl != c->cpl;
        c->seg[SEG_SS] = ss;
        control_commit_cs(c, &cs, rpl, rip);
        stack_set_rsp(c, &ss, rsp);
        if (outward)
            seg_drop_inner(c, rpl);
    } else {
        stack_set_rsp(c, &c->seg[SEG_SS], c->gpr[REG_RSP] + 3 * opsize);
        control_commit_cs(c, &cs, rpl, rip);
    }
    control_iret_done(c, flags);
    return CPU_OK;
}

/* ---- fast system calls: flat segments by decree, descriptors are not read ---- */

static void control_flat_segment(struct cpu *c, unsigned seg, uint16_t selector, unsigned dpl, bool wide)
{
    struct seg *s = &c->seg[seg];
    s->selector = selector;
    s->base = 0;
    s->limit = 0xFFFFFFFFu;
    s->attr = SEG_G | SEG_P | SEG_S | SEG_WRITE_READ | SEG_ACCESSED | dpl << 5;
    if (seg == SEG_CS)
        s->attr |= SEG_CODE | (wide ? SEG_L : SEG_DB);
    else
        s->attr |= SEG_DB;
}

EMU_PRIV int cpu_syscall(struct cpu *c)
{
    uint32_t flags = cpu_eflags(c);
    uint16_t cs = (uint16_t)(c->star >> 32) & 0xFFFC;
    if (c->mode != MODE_LONG || !(c->efer & EFER_SCE))
        return cpu_raise(c, EXC_UD);
    c->gpr[REG_RCX] = c->next_rip;
    c->gpr[REG_R11] = flags & ~(uint32_t)FLAG_RF;
    c->next_rip = c->lstar;
    c->cpl = 0;
    control_flat_segment(c, SEG_CS, cs, 0, true);
    control_flat_segment(c, SEG_SS, (uint16_t)(cs + 8), 0, false);
    cpu_set_eflags(c, (flags & ~(uint32_t)c->fmask & ~(uint32_t)FLAG_RF) | 2);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int cpu_sysret(struct cpu *c, unsigned opsize)
{
    uint16_t base = (uint16_t)(c->star >> 48);
    uint32_t flags = ((uint32_t)c->gpr[REG_R11] & 0x003C7FD7u) | 2;
    bool wide = opsize == 8;
    if (c->mode != MODE_LONG || !(c->efer & EFER_SCE))
        return cpu_raise(c, EXC_UD);
    if (c->cpl != 0 || (wide && !cpu_canonical(c, c->gpr[REG_RCX])))
        return cpu_raise_error(c, EXC_GP, 0);
    c->next_rip = wide ? c->gpr[REG_RCX] : (uint32_t)c->gpr[REG_RCX];
    c->cpl = 3;
    control_flat_segment(c, SEG_CS, (uint16_t)((base + (wide ? 16 : 0)) | 3), 3, wide);
    control_flat_segment(c, SEG_SS, (uint16_t)((base + 8) | 3), 3, false);
    cpu_set_eflags(c, flags);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int cpu_sysenter(struct cpu *c)
{
    bool lma = control_lma(c);
    uint16_t cs = (uint16_t)c->sysenter_cs & 0xFFFC;
    if (c->mode == MODE_REAL || sel_is_null(cs))
        return cpu_raise_error(c, EXC_GP, 0);
    cpu_set_eflags(c, cpu_eflags(c) & ~(uint32_t)(FLAG_VM | FLAG_IF | FLAG_RF));
    c->gpr[REG_RSP] = lma ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
    c->next_rip = lma ? c->sysenter_eip : (uint32_t)c->sysenter_eip;
    c->cpl = 0;
    control_flat_segment(c, SEG_CS, cs, 0, lma);
    control_flat_segment(c, SEG_SS, (uint16_t)(cs + 8), 0, false);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int cpu_sysexit(struct cpu *c, unsigned opsize)
{
    uint16_t cs = (uint16_t)c->sysenter_cs & 0xFFFC;
    bool wide = opsize == 8 && control_lma(c);
    if (c->mode == MODE_REAL || sel_is_null(cs) || c->cpl != 0)
        return cpu_raise_error(c, EXC_GP, 0);
    if (wide && (!cpu_canonical(c, c->gpr[REG_RCX]) || !cpu_canonical(c, c->gpr[REG_RDX])))
        return cpu_raise_error(c, EXC_GP, 0);
    c->gpr[REG_RSP] = wide ? c->gpr[REG_RCX] : (uint32_t)c->gpr[REG_RCX];
    c->next_rip = wide ? c->gpr[REG_RDX] : (uint32_t)c->gpr[REG_RDX];
    c->cpl = 3;
    control_flat_segment(c, SEG_CS, (uint16_t)((cs + (wide ? 32 : 16)) | 3), 3, wide);
    control_flat_segment(c, SEG_SS, (uint16_t)((cs + (wide ? 40 : 24)) | 3), 3, false);
    cpu_update_mode(c);
    return CPU_OK;
}

/* ======================================== src/cpu/vec.h ======================================== */

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
    VEC_FN(name) VEC_LANES_N(T, R, 16, expr)                                                                           \
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
    VEC_FN(name) VEC_BODY_N(16, __VA_ARGS__)                                                                           \
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

/* ======================================== src/cpu/softfloat.c ======================================== */

/* cpu/softfloat.c - floating point without a floating-point unit: see vec.h for the model, the theory and the invariants.
 *
 * Models     IEEE 754-2008 §4-7 as Intel implements it: SDM vol. 1 §4.8.3.5 (NaNs), §4.9.1.5 (tininess after rounding), §8.5, §11.5.
 * Contract   Called by sse.c, sse4.c and x87.c. Pure functions of their arguments: the environment carries modes in, flags out.
 * Invariants as in vec.h.
 * Missing    binary16 and fused multiply-add (F16C, FMA are not offered yet).
 */

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
    bool inexact, up, tiny = false;

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
        if (tiny && !(env->masked & SF_UE)) {
            env->flags |= SF_UE;
            if (env->x87) { /* the rounded result with its exponent lifted back into the range */
                exp += SF_BIAS_ADJUST;
                tiny = false;
                if (exp < f->emin) { /* FSCALE can be farther away */
                    n.cls = SF_ZERO;
                    n.mant = 0;
                    env->flags |= SF_PE;
                    return n;
                }
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
    if (exp > f->emax) {
        if (env->x87 && !(env->masked & SF_OE)) {
            env->flags |= SF_OE;
            exp -= SF_BIAS_ADJUST;
            if (exp > f->emax)
                return sf_overflow(env, f, w->sign);
        } else {
            return sf_overflow(env, f, w->sign);
        }
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

/* ======================================== src/cpu/x87_math.c ======================================== */

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
    for (k = 25; k >= 1; k -= 2)
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
    for (k = 49; k >= 1; k -= 2)
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

/* ======================================== src/cpu/x87.c ======================================== */

/* cpu/x87.c - the x87: register stack, status, exceptions, arithmetic, conversions, environment, FXSAVE image.
 *
 * Models     SDM vol. 1 chapter 8, vol. 2 (F2XM1 to FYL2XP1, FXSAVE), vol. 3 §22.18; the 80287/80387's FERR# way out where CR0.NE is clear.
 * Contract   cpu_rows_x87() gives decode.c the rows, all of them plain-C instructions. mmx.c asks mmx_enter(). system.c uses the FXSAVE image.
 *            Numbers come from softfloat.c, transcendental functions from x87_math.c.
 * Theory     ES and B of the status word are not stored: they are "some flag is set whose mask bit is clear". So FLDCW, FLDENV and FXRSTOR need no
 *            care. An instruction computes first, then records flags (x87_commit) and learns whether the result may be written.
 *            Waiting instructions begin with x87_begin(), which delivers the exception that an earlier one left behind.
 * Invariants 1. x87_status never holds TOP, ES or B.
 *            2. A memory fault leaves everything as it was: operands are loaded, and results stored, before flags or stack change.
 *            3. An unmasked invalid, denormal or zero-divide leaves stack and memory as they were.
 * Missing    FCS and FDS are kept (later processors write zero).
 */

enum { X87_SF = 1 << 6, X87_ES = 1 << 7, X87_C0 = 1 << 8, X87_C1 = 1 << 9, X87_C2 = 1 << 10, X87_TOP = 7 << 11, X87_C3 = 1 << 14, X87_B = 1 << 15,
       X87_CC = X87_C0 | X87_C1 | X87_C2 | X87_C3, X87_STORED = 0x7F | X87_CC };
enum { X87_CW_RESERVED = 0x40, X87_CW_INIT = 0x37F, X87_CW_VALID = 0x1F3F };

#define X87_ST(c, n) (&(c)->x87[((c)->x87_top + (n)) & 7])
#define X87_MODRM_REG(i) ((i)->modrm >> 3 & 7u)
#define X87_MODRM_RM(i) ((i)->modrm & 7u)

static bool x87_pending(const struct cpu *c) { return (c->x87_status & ~c->x87_control & SF_ALL_FLAGS) != 0; }
static uint16_t x87_status_word(const struct cpu *c)
{
    return (uint16_t)((c->x87_status & X87_STORED) | c->x87_top << 11 | (x87_pending(c) ? X87_ES | X87_B : 0));
}
/* After anything that can set or clear ES: FERR# follows it when CR0.NE is clear. */
static void x87_update_pin(struct cpu *c, bool was)
{
    bool now = x87_pending(c);
    if (now != was && !(c->cr0 & CR0_NE))
        chipset_set_ferr(c->emu, now);
}
static void x87_load_status(struct cpu *c, uint16_t sw)
{
    bool was = x87_pending(c);
    c->x87_status = sw & X87_STORED;
    c->x87_top = sw >> 11 & 7;
    x87_update_pin(c, was);
}
static void x87_load_control(struct cpu *c, uint16_t cw)
{
    bool was = x87_pending(c);
    c->x87_control = (uint16_t)((cw & X87_CW_VALID) | X87_CW_RESERVED);
    x87_update_pin(c, was);
}

EMU_PRIV void x87_reset(struct cpu *c, bool power_on)
{
    bool was = x87_pending(c);
    c->x87_control = power_on ? 0x40 : X87_CW_INIT; /* SDM vol. 3 table 9-1 */
    c->x87_status = 0;
    c->x87_top = 0;
    c->x87_tags = power_on ? 0 : 0xFF;
    c->x87_ip = c->x87_dp = 0;
    c->x87_cs = c->x87_ds = 0;
    c->x87_opcode = 0;
    if (power_on)
        memset(c->x87, 0, sizeof c->x87);
    else
        x87_update_pin(c, was);
}

EMU_PRIV int x87_check_pending(struct cpu *c)
{
    if (EMU_LIKELY(!x87_pending(c)))
        return CPU_OK;
    if (c->cr0 & CR0_NE)
        return cpu_raise(c, EXC_MF);
    chipset_set_ferr(c->emu, true); /* the handler of IRQ 13 sorts it out; the instruction goes on as with IGNNE# */
    return CPU_OK;
}

EMU_PRIV int mmx_enter(struct cpu *c)
{
    int r;
    if (c->cr0 & CR0_EM)
        return cpu_raise(c, EXC_UD);
    if (c->cr0 & CR0_TS)
        return cpu_raise(c, EXC_NM);
    r = x87_check_pending(c);
    if (r)
        return r;
    c->x87_top = 0;
    c->x87_tags = 0;
    return CPU_OK;
}

/* ---- stack and flags ---- */
static bool x87_empty(const struct cpu *c, unsigned n) { return c->x87_tags >> ((c->x87_top + n) & 7) & 1; }
static void x87_put(struct cpu *c, unsigned n, struct x87_reg r)
{
    *X87_ST(c, n) = r;
    c->x87_tags &= (uint8_t)~(1u << ((c->x87_top + n) & 7));
}
static void x87_put_num(struct cpu *c, unsigned n, const struct sf_num *v) { x87_put(c, n, sf_pack80(v)); }
static void x87_push(struct cpu *c, struct x87_reg r)
{
    c->x87_top = (c->x87_top - 1) & 7;
    x87_put(c, 0, r);
}
static void x87_pop(struct cpu *c)
{
    c->x87_tags |= (uint8_t)(1u << c->x87_top);
    c->x87_top = (c->x87_top + 1) & 7;
}
static struct x87_reg x87_nan(void)
{
    struct sf_num n = sf_default_nan();
    return sf_pack80(&n);
}

static void x87_add_flags(struct cpu *c, unsigned flags)
{
    bool was = x87_pending(c);
    c->x87_status |= (uint16_t)flags;
    x87_update_pin(c, was);
}
/* Stack overflow or underflow; true: masked, go on with the default NaN. */
static bool x87_stack_fault(struct cpu *c, bool overflow)
{
    c->x87_status &= (uint16_t)~X87_C1;
    x87_add_flags(c, SF_IE | X87_SF | (overflow ? X87_C1 : 0));
    return c->x87_control & SF_IE;
}
static void x87_env(const struct cpu *c, struct sf_env *env)
{
    env->rounding = c->x87_control >> 10 & 3;
    env->flags = 0;
    env->masked = c->x87_control & SF_ALL_FLAGS;
    env->daz = env->ftz = false;
    env->x87 = true;
    env->rounded_up = false;
}
/* Records what an operation raised. False: an unmasked exception forbids its result. */
static bool x87_commit(struct cpu *c, const struct sf_env *env)
{
    unsigned flags = env->flags, stop = flags & ~(unsigned)env->masked & (SF_IE | SF_DE | SF_ZE);
    if (stop)
        flags &= SF_IE | SF_DE | SF_ZE;
    c->x87_status &= (uint16_t)~X87_C1;
    if (env->rounded_up && !stop)
        flags |= X87_C1;
    x87_add_flags(c, flags);
    return !stop;
}
/* Results of FADD, FSUB, FMUL, FDIV, FSQRT are rounded to PC's precision, in the range of the 80-bit format. */
static const struct sf_format x87_formats[4] = { { 24, 15, -16382, 16383 }, { 64, 15, -16382, 16383 }, { 53, 15, -16382, 16383 }, { 64, 15, -16382, 16383 } };
static const struct sf_format *x87_format(const struct cpu *c) { return &x87_formats[c->x87_control >> 8 & 3]; }

/* ---- instruction prologue ---- */
static void x87_note(struct cpu *c, const struct insn *i)
{
    c->x87_opcode = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
    c->x87_ip = c->rip;
    c->x87_cs = c->seg[SEG_CS].selector;
    if (i->memory) {
        c->x87_dp = insn_address(c, i);
        c->x87_ds = c->seg[i->seg].selector;
    }
}
/* For instructions without a memory operand. */
static int x87_begin(struct cpu *c, const struct insn *i)
{
    int r = x87_check_pending(c);
    if (!r)
        x87_note(c, i);
    return r;
}
static int x87_begin_load(struct cpu *c, const struct insn *i, unsigned size, uint64_t *value)
{
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load(c, i->seg, insn_address(c, i), size, value);
    if (!r)
        x87_note(c, i);
    return r;
}
/* The numeric memory operand of an arithmetic or load instruction, by opcode D8-DF. */
static int x87_load_operand(struct cpu *c, const struct insn *i, struct sf_num *n)
{
    static const uint8_t sizes[8] = { 4, 4, 4, 4, 8, 8, 2, 2 };
    unsigned op = i->opcode & 7;
    struct sf_env env;
    struct sf_wide w;
    uint64_t v;
    unsigned size = op == 7 && X87_MODRM_REG(i) == 5 ? 8 : sizes[op];
    int r = x87_begin_load(c, i, size, &v);
    if (r)
        return r;
    x87_env(c, &env);
    if (op == 0 || op == 1) {
        *n = sf_unpack(&env, &sf_f32, v);
    } else if (op == 4 || op == 5) {
        *n = sf_unpack(&env, &sf_f64, v);
    } else {
        w = sf_from_int((uint64_t)sext64(v, size * 8), true);
        *n = sf_round(&env, &sf_f80, &w);
    }
    return CPU_OK;
}

/* ---- arithmetic: the eight operations of modrm.reg, as computed from ST(0) and the other operand ---- */
/* bits that a partial FPREM takes off */
#define X87_PARTIAL_STEP (32 + (diff & 31))
enum { X87_OP_ADD, X87_OP_MUL, X87_OP_COM, X87_OP_COMP, X87_OP_SUB, X87_OP_SUBR, X87_OP_DIV, X87_OP_DIVR };

static void x87_set_order(struct cpu *c, enum sf_order o)
{
    static const uint16_t codes[] = { X87_C0, X87_C3, 0, X87_C0 | X87_C2 | X87_C3 }; /* ORDER sf_order */
    c->x87_status = (uint16_t)((c->x87_status & ~X87_CC) | codes[o]);
}
/* FCOM and its kind; pops after, unless an unmasked exception forbids. */
static void x87_compare(struct cpu *c, const struct sf_num *b, bool missing, bool quiet, unsigned pops)
{
    struct sf_env env;
    enum sf_order o = SF_UNORDERED;
    bool go;
    x87_env(c, &env);
    if (missing || x87_empty(c, 0)) {
        go = x87_stack_fault(c, false);
    } else {
        struct sf_num a = sf_unpack80(X87_ST(c, 0));
        o = sf_compare(&env, &a, b, quiet);
        go = x87_commit(c, &env);
    }
    if (!go)
        return;
    x87_set_order(c, o);
    while (pops--)
        x87_pop(c);
}
/* op on ST(0) and other (missing: an empty register), result to ST(dst). */
static void x87_arith(struct cpu *c, unsigned op, const struct sf_num *other, bool missing, unsigned dst, bool pop)
{
    struct sf_env env;
    struct sf_num st0, n;
    struct sf_wide w;
    if (op == X87_OP_COM || op == X87_OP_COMP) {
        x87_compare(c, other, missing, false, op == X87_OP_COMP);
        return;
    }
    if (missing || x87_empty(c, 0)) {
        if (!x87_stack_fault(c, false))
            return;
        n = sf_default_nan();
    } else {
        st0 = sf_unpack80(X87_ST(c, 0));
        x87_env(c, &env);
        switch (op) {
        case X87_OP_ADD: w = sf_add(&env, &st0, other, false); break;
        case X87_OP_MUL: w = sf_mul(&env, &st0, other); break;
        case X87_OP_SUB: w = sf_add(&env, &st0, other, true); break;
        case X87_OP_SUBR: w = sf_add(&env, other, &st0, true); break;
        case X87_OP_DIV: w = sf_div(&env, &st0, other); break;
        default: w = sf_div(&env, other, &st0); break;
        }
        n = sf_round(&env, x87_format(c), &w);
        if (!x87_commit(c, &env))
            return;
    }
    x87_put_num(c, dst, &n);
    if (pop)
        x87_pop(c);
}
static int x87_arith_mem(struct cpu *c, const struct insn *i)
{
    struct sf_num n;
    int r = x87_load_operand(c, i, &n);
    if (!r)
        x87_arith(c, X87_MODRM_REG(i), &n, false, 0, false);
    return r;
}
static int x87_arith_reg(struct cpu *c, const struct insn *i) /* D8, DC, DE */
{
    unsigned n = X87_MODRM_RM(i), op = X87_MODRM_REG(i);
    struct sf_num other;
    int r = x87_begin(c, i);
    if (r)
        return r;
    other = sf_unpack80(X87_ST(c, n));
    x87_arith(c, op, &other, x87_empty(c, n), i->opcode == 0xD8 ? 0 : n, i->opcode == 0xDE);
    return CPU_OK;
}
static int x87_compare_reg(struct cpu *c, const struct insn *i, bool quiet, unsigned pops)
{
    unsigned n = X87_MODRM_RM(i);
    struct sf_num other;
    int r = x87_begin(c, i);
    if (r)
        return r;
    other = sf_unpack80(X87_ST(c, n));
    x87_compare(c, &other, x87_empty(c, n), quiet, pops);
    return CPU_OK;
}
static int x87_fcom(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, false, 0); }
static int x87_fcomp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, false, 1); }
static int x87_fcompp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, false, 2); }
static int x87_fucom(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, true, 0); }
static int x87_fucomp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, true, 1); }
static int x87_fucompp(struct cpu *c, const struct insn *i) { return x87_compare_reg(c, i, true, 2); }

static int x87_compare_eflags(struct cpu *c, const struct insn *i, bool quiet, bool pop)
{
    static const uint8_t flags[] = { FLAG_CF, FLAG_ZF, 0, FLAG_CF | FLAG_PF | FLAG_ZF }; /* ORDER sf_order */
    unsigned n = X87_MODRM_RM(i);
    enum sf_order o = SF_UNORDERED;
    struct sf_env env;
    bool go;
    int r = x87_begin(c, i);
    if (r)
        return r;
    x87_env(c, &env);
    if (x87_empty(c, 0) || x87_empty(c, n)) {
        go = x87_stack_fault(c, false);
    } else {
        struct sf_num a = sf_unpack80(X87_ST(c, 0)), b = sf_unpack80(X87_ST(c, n));
        o = sf_compare(&env, &a, &b, quiet);
        go = x87_commit(c, &env);
    }
    if (go) {
        cpu_set_arith_flags(c, flags[o]);
        if (pop)
            x87_pop(c);
    }
    return CPU_OK;
}
static int x87_fcomi(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, false, false); }
static int x87_fcomip(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, false, true); }
static int x87_fucomi(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, true, false); }
static int x87_fucomip(struct cpu *c, const struct insn *i) { return x87_compare_eflags(c, i, true, true); }

static int x87_ftst(struct cpu *c, const struct insn *i)
{
    struct sf_num zero = { 0, 0, SF_ZERO, false, false };
    int r = x87_begin(c, i);
    if (!r)
        x87_compare(c, &zero, false, false, 0);
    return r;
}
static int x87_fxam(struct cpu *c, const struct insn *i)
{
    const struct x87_reg *st0 = X87_ST(c, 0);
    unsigned code;
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, 0)) {
        code = X87_C3 | X87_C0;
    } else {
        struct sf_num n = sf_unpack80(st0);
        switch (n.cls) {
        case SF_ZERO: code = X87_C3; break;
        case SF_FINITE: code = n.denormal ? X87_C3 | X87_C2 : X87_C2; break;
        case SF_INF: code = X87_C2 | X87_C0; break;
        case SF_UNSUPPORTED: code = 0; break;
        default: code = X87_C0; break;
        }
    }
    if (st0->exp >> 15)
        code |= X87_C1;
    c->x87_status = (uint16_t)((c->x87_status & ~X87_CC) | code);
    return CPU_OK;
}

/* ---- loads ---- */
/* Room for a push? If not: stack fault, and the default NaN where that is masked. True: go on and push. */
static bool x87_room(struct cpu *c)
{
    if (EMU_LIKELY(x87_empty(c, 7)))
        return true;
    if (x87_stack_fault(c, true))
        x87_push(c, x87_nan());
    return false;
}
static int x87_fld_mem(struct cpu *c, const struct insn *i) /* m32, m64 and the integers */
{
    struct sf_env env;
    struct sf_num n;
    int r = x87_load_operand(c, i, &n);
    if (r)
        return r;
    if (!x87_room(c))
        return CPU_OK;
    x87_env(c, &env);
    if (n.cls >= SF_QNAN)
        n = sf_propagate(&env, &n, &n);
    else if (n.denormal)
        env.flags |= SF_DE;
    if (x87_commit(c, &env))
        x87_push(c, sf_pack80(&n));
    return CPU_OK;
}
static int x87_fld_m80(struct cpu *c, const struct insn *i)
{
    uint8_t image[10];
    struct x87_reg v;
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, 10);
    if (r)
        return r;
    x87_note(c, i);
    v.mant = ld64le(image);
    v.exp = ld16le(image + 8);
    if (x87_room(c)) {
        c->x87_status &= (uint16_t)~X87_C1;
        x87_push(c, v);
    }
    return CPU_OK;
}
static int x87_fld_reg(struct cpu *c, const struct insn *i)
{
    unsigned n = X87_MODRM_RM(i);
    struct x87_reg v = *X87_ST(c, n);
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, n)) {
        if (!x87_stack_fault(c, false))
            return CPU_OK;
        v = x87_nan();
        x87_push(c, v);
        return CPU_OK;
    }
    if (x87_room(c)) {
        c->x87_status &= (uint16_t)~X87_C1;
        x87_push(c, v);
    }
    return CPU_OK;
}
/* FLD1 .. FLDZ. The exact value, its last bit, and what lies below it, for the rounding modes (SDM vol. 1 §8.3.8: RC counts). */
static int x87_fld_const(struct cpu *c, const struct insn *i)
{
    static const struct {
        uint64_t mant; /* rounded to nearest */
        uint16_t exp;
        int8_t below; /* sign of (exact - mant) */
    } k[7] = {
        { UINT64_C(0x8000000000000000), 0x3FFF, 0 },  /* 1 */
        { UINT64_C(0xD49A784BCD1B8AFE), 0x4000, 1 },  /* log2(10) */
        { UINT64_C(0xB8AA3B295C17F0BC), 0x3FFF, -1 }, /* log2(e) */
        { UINT64_C(0xC90FDAA22168C235), 0x4000, -1 }, /* pi */
        { UINT64_C(0x9A209A84FBCFF799), 0x3FFD, -1 }, /* log10(2) */
        { UINT64_C(0xB17217F7D1CF79AC), 0x3FFE, -1 }, /* ln(2) */
        { 0, 0, 0 },
    };
    unsigned n = X87_MODRM_RM(i), rc = c->x87_control >> 10 & 3;
    struct x87_reg v;
    int r = x87_begin(c, i);
    if (r)
        return r;
    v.mant = k[n].mant;
    v.exp = k[n].exp;
    if (k[n].below < 0 && (rc == SF_DOWN || rc == SF_CHOP))
        v.mant--;
    if (k[n].below > 0 && rc == SF_UP)
        v.mant++;
    if (x87_room(c)) {
        c->x87_status &= (uint16_t)~X87_C1;
        x87_push(c, v);
    }
    return CPU_OK;
}

/* ---- stores ---- */
/* Stores ST(0) in `size` bytes computed by the caller, then flags and pop. write: the flags allow it. */
static int x87_finish_store(struct cpu *c, const struct insn *i, const struct sf_env *env, uint64_t value, unsigned size, bool pop)
{
    unsigned unmasked = env->flags & ~(unsigned)env->masked;
    bool write = !(unmasked & ~(unsigned)SF_PE);
    int r;
    if (write) {
        r = cpu_store(c, i->seg, insn_address(c, i), size, value);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (x87_commit(c, env) && write && pop)
        x87_pop(c);
    return CPU_OK;
}
/* ST(0) is empty: the masked answer is stored. */
static int x87_store_missing(struct cpu *c, const struct insn *i, uint64_t value, unsigned size, bool pop)
{
    bool masked = c->x87_control & SF_IE;
    if (masked) {
        int r = cpu_store(c, i->seg, insn_address(c, i), size, value);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (x87_stack_fault(c, false) && pop)
        x87_pop(c);
    return CPU_OK;
}
static int x87_store_float(struct cpu *c, const struct insn *i, const struct sf_format *f, unsigned size, bool pop)
{
    struct sf_num nan = sf_default_nan(), n;
    struct sf_env env;
    struct sf_wide w;
    int r = x87_check_pending(c);
    if (r)
        return r;
    if (x87_empty(c, 0))
        return x87_store_missing(c, i, sf_pack(f, &nan), size, pop);
    x87_env(c, &env);
    env.x87 = false; /* no biased results in memory */
    n = sf_unpack80(X87_ST(c, 0));
    if (n.cls >= SF_QNAN)
        n = sf_propagate(&env, &n, &n);
    w = sf_widen(&n);
    n = sf_round(&env, f, &w);
    return x87_finish_store(c, i, &env, sf_pack(f, &n), size, pop);
}
static int x87_fst_m32(struct cpu *c, const struct insn *i) { return x87_store_float(c, i, &sf_f32, 4, X87_MODRM_REG(i) == 3); }
static int x87_fst_m64(struct cpu *c, const struct insn *i) { return x87_store_float(c, i, &sf_f64, 8, X87_MODRM_REG(i) == 3); }
static int x87_store_int(struct cpu *c, const struct insn *i, unsigned size, bool pop, bool truncate)
{
    struct sf_env env;
    struct sf_num n;
    uint64_t v;
    int r = x87_check_pending(c);
    if (r)
        return r;
    if (x87_empty(c, 0))
        return x87_store_missing(c, i, UINT64_C(1) << (size * 8 - 1), size, pop);
    x87_env(c, &env);
    n = sf_unpack80(X87_ST(c, 0));
    v = sf_to_int(&env, &n, size * 8, truncate ? SF_CHOP : env.rounding);
    return x87_finish_store(c, i, &env, v, size, pop);
}
static int x87_fist_m16(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 2, X87_MODRM_REG(i) == 3, false); }
static int x87_fist_m32(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 4, X87_MODRM_REG(i) == 3, false); }
static int x87_fistp_m64(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 8, true, false); }
static int x87_fisttp_m16(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 2, true, true); }
static int x87_fisttp_m32(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 4, true, true); }
static int x87_fisttp_m64(struct cpu *c, const struct insn *i) { return x87_store_int(c, i, 8, true, true); }

static int x87_fstp_m80(struct cpu *c, const struct insn *i)
{
    uint8_t image[10];
    struct x87_reg v = *X87_ST(c, 0);
    bool missing = x87_empty(c, 0), write = !missing || (c->x87_control & SF_IE);
    int r = x87_check_pending(c);
    if (r)
        return r;
    if (missing)
        v = x87_nan();
    st64le(image, v.mant);
    st16le(image + 8, v.exp);
    if (write) {
        r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, 10);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (missing)
        x87_stack_fault(c, false);
    else
        c->x87_status &= (uint16_t)~X87_C1;
    if (write)
        x87_pop(c);
    return CPU_OK;
}
static int x87_fst_reg(struct cpu *c, const struct insn *i)
{
    bool pop = X87_MODRM_REG(i) == 3 || i->opcode == 0xDF;
    struct x87_reg v = *X87_ST(c, 0);
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, 0)) {
        if (!x87_stack_fault(c, false))
            return CPU_OK;
        v = x87_nan();
    } else {
        c->x87_status &= (uint16_t)~X87_C1;
    }
    x87_put(c, X87_MODRM_RM(i), v);
    if (pop)
        x87_pop(c);
    return CPU_OK;
}

/* ---- packed decimal: 18 digits and a sign in 10 bytes ---- */
static int x87_fbld(struct cpu *c, const struct insn *i)
{
    uint8_t image[10];
    struct sf_env env;
    struct sf_wide w;
    struct sf_num n;
    uint64_t v = 0;
    unsigned k;
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, 10);
    if (r)
        return r;
    x87_note(c, i);
    if (!x87_room(c))
        return CPU_OK;
    for (k = 9; k--;)
        v = v * 100 + (image[k] >> 4) * 10u + (image[k] & 15u);
    x87_env(c, &env);
    w = sf_from_int(v, false);
    w.sign = image[9] >> 7;
    n = sf_round(&env, &sf_f80, &w);
    x87_commit(c, &env);
    x87_push(c, sf_pack80(&n));
    return CPU_OK;
}
static int x87_fbstp(struct cpu *c, const struct insn *i)
{
    static const uint8_t indefinite[10] = { 0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF };
    uint8_t image[10];
    struct sf_env env;
    bool missing = x87_empty(c, 0), write;
    int r = x87_check_pending(c);
    if (r)
        return r;
    x87_env(c, &env);
    memcpy(image, indefinite, 10);
    if (!missing) {
        struct sf_num n = sf_unpack80(X87_ST(c, 0));
        uint64_t v = sf_to_int(&env, &n, 64, env.rounding);
        if (n.sign)
            v = 0 - v;
        if (!(env.flags & SF_IE) && v < UINT64_C(1000000000000000000)) {
            unsigned k;
            for (k = 0; k < 9; k++, v /= 100)
                image[k] = (uint8_t)(v % 10 | v / 10 % 10 << 4);
            image[9] = n.sign ? 0x80 : 0;
        } else {
            env.flags = SF_IE;
            env.rounded_up = false;
        }
    } else {
        env.flags = SF_IE;
    }
    write = !(env.flags & SF_IE) || (env.masked & SF_IE);
    if (write) {
        r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, 10);
        if (r)
            return r;
    }
    x87_note(c, i);
    if (missing)
        x87_stack_fault(c, false);
    else
        x87_commit(c, &env);
    if (write)
        x87_pop(c);
    return CPU_OK;
}

/* ---- register moves ---- */
static int x87_fxch(struct cpu *c, const struct insn *i)
{
    unsigned n = X87_MODRM_RM(i);
    struct x87_reg a, b;
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C1;
    if ((x87_empty(c, 0) || x87_empty(c, n)) && !x87_stack_fault(c, false))
        return CPU_OK;
    a = x87_empty(c, 0) ? x87_nan() : *X87_ST(c, 0);
    b = x87_empty(c, n) ? x87_nan() : *X87_ST(c, n);
    x87_put(c, 0, b);
    x87_put(c, n, a);
    return CPU_OK;
}
static int x87_fcmov(struct cpu *c, const struct insn *i)
{
    unsigned n = X87_MODRM_RM(i);
    uint32_t f = cpu_arith_flags(c);
    bool cond;
    int r = x87_begin(c, i);
    if (r)
        return r;
    switch (X87_MODRM_REG(i)) {
    case 0: cond = (f & FLAG_CF) != 0; break;
    case 1: cond = (f & FLAG_ZF) != 0; break;
    case 2: cond = (f & (FLAG_CF | FLAG_ZF)) != 0; break;
    default: cond = (f & FLAG_PF) != 0; break;
    }
    if (i->opcode == 0xDB)
        cond = !cond;
    c->x87_status &= (uint16_t)~X87_C1;
    if (x87_empty(c, 0) || x87_empty(c, n)) {
        if (x87_stack_fault(c, false) && cond)
            x87_put(c, 0, x87_nan());
        return CPU_OK;
    }
    if (cond)
        x87_put(c, 0, *X87_ST(c, n));
    return CPU_OK;
}
static int x87_fchs_fabs(struct cpu *c, const struct insn *i)
{
    struct x87_reg v = *X87_ST(c, 0);
    int r = x87_begin(c, i);
    if (r)
        return r;
    if (x87_empty(c, 0)) {
        if (!x87_stack_fault(c, false))
            return CPU_OK;
        v = x87_nan();
    } else {
        c->x87_status &= (uint16_t)~X87_C1;
        v.exp = X87_MODRM_RM(i) ? v.exp & 0x7FFF : v.exp ^ 0x8000;
    }
    x87_put(c, 0, v);
    return CPU_OK;
}
static int x87_ffree(struct cpu *c, const struct insn *i)
{
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_tags |= (uint8_t)(1u << ((c->x87_top + X87_MODRM_RM(i)) & 7));
    if (i->opcode == 0xDF)
        x87_pop(c);
    return CPU_OK;
}
static int x87_fincstp(struct cpu *c, const struct insn *i)
{
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C1;
    c->x87_top = (c->x87_top + (X87_MODRM_RM(i) == 7 ? 1 : 7)) & 7;
    return CPU_OK;
}
static int x87_fnop(struct cpu *c, const struct insn *i) { return x87_begin(c, i); }

/* ---- functions of ST(0) alone ---- */
/* ST(0) := n where flags allow. */
static void x87_finish_unary(struct cpu *c, const struct sf_env *env, const struct sf_num *n)
{
    if (x87_commit(c, env))
        x87_put_num(c, 0, n);
}
/* Loads ST(0); false: empty, dealt with. */
static bool x87_get_st0(struct cpu *c, struct sf_num *n)
{
    if (x87_empty(c, 0)) {
        if (x87_stack_fault(c, false))
            x87_put(c, 0, x87_nan());
        return false;
    }
    *n = sf_unpack80(X87_ST(c, 0));
    return true;
}
static int x87_fsqrt(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    w = sf_sqrt(&env, &n);
    n = sf_round(&env, x87_format(c), &w);
    x87_finish_unary(c, &env, &n);
    return CPU_OK;
}
static int x87_frndint(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n, v;
    int r = x87_begin(c, i);
    if (r || !x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    v = sf_round_int(&env, &n, env.rounding);
    x87_finish_unary(c, &env, &v);
    return CPU_OK;
}
static int x87_f2xm1(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    if (n.cls >= SF_QNAN) {
        n = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        if (n.sign) { /* 2^-inf - 1 */
            n.cls = SF_FINITE;
            n.mant = UINT64_C(1) << 63;
            n.exp = 0;
        }
    } else if (n.cls == SF_FINITE) {
        if (n.exp >= 0) {
            /* +-1 are exact; beyond, the result is undefined: hardware leaves ST(0) as it is */
            if (n.exp == 0 && n.mant == UINT64_C(1) << 63 && n.sign)
                n.exp = -1;
        } else {
            w = x87_math_exp2m1(&n);
            n = sf_round(&env, &sf_f80, &w);
        }
    }
    x87_finish_unary(c, &env, &n);
    return CPU_OK;
}
/* FSIN, FCOS. Beyond 2^63: C2 is set and ST(0) stays. */
static int x87_fsin_fcos(struct cpu *c, const struct insn *i)
{
    bool cosine = X87_MODRM_RM(i) == 7;
    struct sf_env env;
    struct sf_num n;
    struct sf_wide s, k;
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C2;
    if (!x87_get_st0(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    if (n.cls >= SF_QNAN) {
        n = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        n = sf_invalid(&env);
    } else if (n.cls == SF_ZERO) {
        if (cosine) {
            n.cls = SF_FINITE;
            n.sign = false;
            n.mant = UINT64_C(1) << 63;
            n.exp = 0;
        }
    } else if (n.exp >= 63) {
        c->x87_status = (uint16_t)((c->x87_status & ~X87_C1) | X87_C2);
        return CPU_OK;
    } else {
        x87_math_sincos(&n, &s, &k);
        n = sf_round(&env, &sf_f80, cosine ? &k : &s);
    }
    x87_finish_unary(c, &env, &n);
    return CPU_OK;
}

/* ---- functions that push: FSINCOS, FPTAN, FXTRACT ---- */
/* The new ST(0) and ST(1). */
static void x87_finish_push(struct cpu *c, const struct sf_env *env, const struct sf_num *st1, const struct sf_num *st0)
{
    if (x87_commit(c, env)) {
        x87_put_num(c, 0, st1);
        x87_push(c, sf_pack80(st0));
    }
}
/* Loads ST(0) and checks that a push has room; false: dealt with. */
static bool x87_get_push(struct cpu *c, struct sf_num *n)
{
    bool missing = x87_empty(c, 0);
    if (missing || !x87_empty(c, 7)) {
        if (x87_stack_fault(c, !missing)) {
            x87_put(c, 0, x87_nan());
            x87_push(c, x87_nan());
        }
        return false;
    }
    *n = sf_unpack80(X87_ST(c, 0));
    return true;
}
static int x87_fsincos_fptan(struct cpu *c, const struct insn *i)
{
    bool tangent = X87_MODRM_RM(i) == 2;
    struct sf_num n, first, second, one = { UINT64_C(1) << 63, 0, SF_FINITE, false, false };
    struct sf_env env, env2;
    struct sf_wide s, k;
    int r = x87_begin(c, i);
    if (r)
        return r;
    c->x87_status &= (uint16_t)~X87_C2;
    if (!x87_get_push(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    first = second = n;
    if (n.cls >= SF_QNAN) {
        first = second = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        first = second = sf_invalid(&env);
    } else if (n.cls == SF_ZERO) {
        second = one;
    } else if (n.exp >= 63) {
        c->x87_status = (uint16_t)((c->x87_status & ~X87_C1) | X87_C2);
        return CPU_OK;
    } else if (tangent) {
        s = x87_math_tan(&n);
        first = sf_round(&env, &sf_f80, &s);
        second = one;
    } else {
        env2 = env;
        x87_math_sincos(&n, &s, &k);
        first = sf_round(&env, &sf_f80, &s);
        second = sf_round(&env2, &sf_f80, &k);
        env.flags |= env2.flags;
        env.rounded_up = env2.rounded_up;
    }
    x87_finish_push(c, &env, &first, &second);
    return CPU_OK;
}
static int x87_fxtract(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num n, exponent, significand;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_push(c, &n))
        return r;
    x87_env(c, &env);
    if (n.denormal)
        env.flags |= SF_DE;
    exponent = significand = n;
    if (n.cls >= SF_QNAN) {
        exponent = significand = sf_propagate(&env, &n, &n);
    } else if (n.cls == SF_INF) {
        exponent.sign = false;
    } else if (n.cls == SF_ZERO) {
        env.flags |= SF_ZE;
        exponent.cls = SF_INF;
        exponent.mant = UINT64_C(1) << 63;
        exponent.sign = true;
    } else {
        w = sf_from_int((uint64_t)(int64_t)n.exp, true);
        exponent = sf_round(&env, &sf_f80, &w);
        significand.exp = 0;
        significand.denormal = false;
    }
    x87_finish_push(c, &env, &exponent, &significand);
    return CPU_OK;
}

/* ---- functions of ST(0) and ST(1) ---- */
/* Loads both; false: one is empty, dealt with: the default NaN goes to ST(dst), then a pop where the function pops. */
static bool x87_get_both(struct cpu *c, struct sf_num *st0, struct sf_num *st1, bool pops)
{
    if (x87_empty(c, 0) || x87_empty(c, 1)) {
        if (x87_stack_fault(c, false)) {
            x87_put(c, pops ? 1 : 0, x87_nan());
            if (pops)
                x87_pop(c);
        }
        return false;
    }
    *st0 = sf_unpack80(X87_ST(c, 0));
    *st1 = sf_unpack80(X87_ST(c, 1));
    return true;
}
static void x87_finish_pop(struct cpu *c, const struct sf_env *env, const struct sf_num *n)
{
    if (x87_commit(c, env)) {
        x87_put_num(c, 1, n);
        x87_pop(c);
    }
}
static void x87_note_denormals(struct sf_env *env, const struct sf_num *a, const struct sf_num *b)
{
    if (a->denormal || b->denormal)
        env->flags |= SF_DE;
}
static struct sf_num x87_special(unsigned cls, bool sign)
{
    struct sf_num n = { 0, 0, SF_ZERO, false, false };
    n.cls = (uint8_t)cls;
    n.sign = sign;
    if (cls == SF_INF)
        n.mant = UINT64_C(1) << 63;
    return n;
}

static int x87_fscale(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num a, b;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &a, &b, false))
        return r;
    x87_env(c, &env);
    if (a.cls >= SF_QNAN || b.cls >= SF_QNAN) {
        a = sf_propagate(&env, &a, &b);
    } else if (b.cls == SF_INF) {
        if (a.cls == (b.sign ? SF_INF : SF_ZERO)) {
            a = sf_invalid(&env);
        } else {
            x87_note_denormals(&env, &a, &b);
            a = x87_special(b.sign ? SF_ZERO : SF_INF, a.sign);
        }
    } else {
        x87_note_denormals(&env, &a, &b);
        if (a.cls == SF_FINITE) {
            int32_t n = 0;
            if (b.cls == SF_FINITE && b.exp >= 0)
                n = b.exp > 16 ? 0x20000 : (int32_t)(b.mant >> (63 - b.exp));
            w = sf_widen(&a);
            w.exp += b.sign ? -n : n;
            a = sf_round(&env, &sf_f80, &w);
        }
    }
    x87_finish_unary(c, &env, &a);
    return CPU_OK;
}

/* FPREM (quotient cut) and FPREM1 (quotient to nearest). Up to 63 exponents apart at a time. */
static int x87_fprem(struct cpu *c, const struct insn *i)
{
    bool nearest = X87_MODRM_RM(i) == 5, partial = false;
    struct sf_env env;
    struct sf_num a, b;
    struct sf_wide w;
    uint64_t q = 0, rem;
    int32_t diff;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &a, &b, false))
        return r;
    x87_env(c, &env);
    if (a.cls >= SF_QNAN || b.cls >= SF_QNAN) {
        a = sf_propagate(&env, &a, &b);
    } else if (a.cls == SF_INF || b.cls == SF_ZERO) {
        a = sf_invalid(&env);
    } else {
        x87_note_denormals(&env, &a, &b);
        diff = a.exp - b.exp;
        w = sf_widen(&a);
        if (a.cls == SF_FINITE && b.cls == SF_FINITE && diff >= (nearest ? -1 : 0)) {
            int32_t n = diff; /* quotient bits after the first */
            if (diff >= 64) {
                partial = true;
                n = X87_PARTIAL_STEP;
            }
            w.exp = b.exp + diff - n;
            if (n < 0) {
                rem = a.mant >> 1; /* FPREM1, |a| a little under |b|: keep the lost bit below */
                w.hi = rem;
                w.lo = a.mant << 63;
            } else {
                rem = a.mant;
                if (rem >= b.mant) {
                    rem -= b.mant;
                    q = 1;
                }
                if (n) {
                    uint64_t low = div128(rem >> (64 - n), rem << n, b.mant, &rem);
                    q = (q << n) + low;
                }
                w.hi = rem;
                w.lo = 0;
            }
            if (nearest && !partial) {
                /* 2 * rem against b */
                uint64_t twice_hi = w.hi >> 63, twice_lo = w.hi << 1 | w.lo >> 63;
                bool above = twice_hi || twice_lo > b.mant, tie = !twice_hi && twice_lo == b.mant;
                if (n < 0)
                    tie = tie && !(w.lo << 1);
                if (above || (tie && (q & 1))) {
                    w.sign = !w.sign;
                    w.hi = b.mant - w.hi - (w.lo != 0);
                    w.lo = 0 - w.lo;
                    q++;
                }
            }
            if (!(w.hi | w.lo)) {
                w.cls = SF_ZERO;
            } else {
                if (!w.hi) {
                    w.hi = w.lo;
                    w.lo = 0;
                    w.exp -= 64;
                }
                n = (int32_t)clz64(w.hi);
                if (n) {
                    w.hi = w.hi << n | w.lo >> (64 - n);
                    w.lo <<= n;
                    w.exp -= n;
                }
            }
        }
        a = sf_round(&env, &sf_f80, &w);
        env.rounded_up = false;
    }
    if (x87_commit(c, &env)) {
        unsigned code = partial ? X87_C2 : (q & 4 ? X87_C0 : 0u) | (q & 2 ? X87_C3 : 0u) | (q & 1 ? X87_C1 : 0u);
        if (a.cls == SF_QNAN)
            code = c->x87_status & (X87_C0 | X87_C3);
        c->x87_status = (uint16_t)((c->x87_status & ~X87_CC) | code);
        x87_put_num(c, 0, &a);
    }
    return CPU_OK;
}

static int x87_fpatan(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num x, y;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &x, &y, true))
        return r;
    x87_env(c, &env);
    if (x.cls >= SF_QNAN || y.cls >= SF_QNAN) {
        y = sf_propagate(&env, &x, &y);
    } else {
        x87_note_denormals(&env, &x, &y);
        if (!x.sign && (y.cls == SF_ZERO || (y.cls == SF_FINITE && x.cls == SF_INF))) {
            y = x87_special(SF_ZERO, y.sign);
        } else {
            w = x87_math_atan2(&y, &x);
            y = sf_round(&env, &sf_f80, &w);
        }
    }
    x87_finish_pop(c, &env, &y);
    return CPU_OK;
}

static int x87_fyl2x(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num x, y;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &x, &y, true))
        return r;
    x87_env(c, &env);
    if (x.cls >= SF_QNAN || y.cls >= SF_QNAN) {
        y = sf_propagate(&env, &x, &y);
    } else if (x.cls != SF_ZERO && x.sign) {
        y = sf_invalid(&env);
    } else if (x.cls == SF_ZERO) { /* log = -inf */
        if (y.cls == SF_ZERO) {
            y = sf_invalid(&env);
        } else {
            if (y.cls == SF_FINITE)
                env.flags |= SF_ZE;
            y = x87_special(SF_INF, !y.sign);
        }
    } else {
        bool one = x.cls == SF_FINITE && x.exp == 0 && x.mant == UINT64_C(1) << 63, below = x.cls == SF_FINITE && x.exp < 0;
        if ((y.cls == SF_ZERO && x.cls == SF_INF) || (y.cls == SF_INF && one)) {
            y = sf_invalid(&env);
        } else {
            x87_note_denormals(&env, &x, &y);
            if (y.cls == SF_INF || x.cls == SF_INF) {
                y = x87_special(SF_INF, y.sign ^ below);
            } else if (y.cls == SF_ZERO || one) {
                y = x87_special(SF_ZERO, y.sign ^ below);
            } else {
                w = x87_math_ylog2(&y, &x);
                y = sf_round(&env, &sf_f80, &w);
            }
        }
    }
    x87_finish_pop(c, &env, &y);
    return CPU_OK;
}
static int x87_fyl2xp1(struct cpu *c, const struct insn *i)
{
    struct sf_env env;
    struct sf_num x, y;
    struct sf_wide w;
    int r = x87_begin(c, i);
    if (r || !x87_get_both(c, &x, &y, true))
        return r;
    x87_env(c, &env);
    if (x.cls >= SF_QNAN || y.cls >= SF_QNAN) {
        y = sf_propagate(&env, &x, &y);
    } else if (x.cls == SF_INF && (x.sign || y.cls == SF_ZERO)) {
        y = sf_invalid(&env);
    } else if (y.cls == SF_INF && x.cls == SF_ZERO) {
        y = sf_invalid(&env);
    } else {
        x87_note_denormals(&env, &x, &y);
        if (y.cls == SF_INF || x.cls == SF_INF) {
            y = x87_special(SF_INF, y.sign ^ x.sign);
        } else if (y.cls == SF_ZERO || x.cls == SF_ZERO) {
            y = x87_special(SF_ZERO, y.sign ^ x.sign);
        } else if (x.sign && x.exp >= 0) { /* x <= -1: outside the documented domain */
            y = sf_invalid(&env);
        } else {
            w = x87_math_ylog2p1(&y, &x);
            y = sf_round(&env, &sf_f80, &w);
        }
    }
    x87_finish_pop(c, &env, &y);
    return CPU_OK;
}

/* ---- control ---- */
static int x87_fninit(struct cpu *c, const struct insn *i)
{
    (void)i;
    x87_reset(c, false);
    return CPU_OK;
}
static int x87_fnclex(struct cpu *c, const struct insn *i)
{
    bool was = x87_pending(c);
    (void)i;
    c->x87_status &= X87_CC;
    x87_update_pin(c, was);
    return CPU_OK;
}
static int x87_8087_nop(struct cpu *c, const struct insn *i) /* FNENI, FNDISI, FNSETPM */
{
    (void)c, (void)i;
    return CPU_OK;
}
static int x87_fwait(struct cpu *c, const struct insn *i)
{
    (void)i;
    if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        return cpu_raise(c, EXC_NM);
    return x87_check_pending(c);
}
static int x87_fldcw(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load(c, i->seg, insn_address(c, i), 2, &v);
    if (!r)
        x87_load_control(c, (uint16_t)v);
    return r;
}
static int x87_fnstcw(struct cpu *c, const struct insn *i) { return cpu_store(c, i->seg, insn_address(c, i), 2, c->x87_control); }
static int x87_fnstsw(struct cpu *c, const struct insn *i) { return cpu_store(c, i->seg, insn_address(c, i), 2, x87_status_word(c)); }
static int x87_fnstsw_ax(struct cpu *c, const struct insn *i)
{
    (void)i;
    cpu_put16(c, REG_RAX, x87_status_word(c));
    return CPU_OK;
}

/* ---- environment ---- */
EMU_PRIV uint16_t x87_tag_word(const struct cpu *c)
{
    unsigned k, tags = 0;
    for (k = 0; k < 8; k++) {
        unsigned tag = 3;
        if (!(c->x87_tags >> k & 1)) {
            struct sf_num n = sf_unpack80(&c->x87[k]);
            tag = n.cls == SF_ZERO ? 1 : n.cls == SF_FINITE && !n.denormal ? 0 : 2;
        }
        tags |= tag << (2 * k);
    }
    return (uint16_t)tags;
}
static void x87_load_tags(struct cpu *c, uint16_t tags)
{
    unsigned k;
    c->x87_tags = 0;
    for (k = 0; k < 8; k++)
        if ((tags >> (2 * k) & 3) == 3)
            c->x87_tags |= (uint8_t)(1u << k);
}
/* 14 bytes for 16-bit operand size, 28 else; SDM vol. 1 figures 8-9 to 8-12. Returns the length. */
static unsigned x87_pack_env(const struct cpu *c, unsigned opsize, uint8_t image[28])
{
    bool real = c->mode == MODE_REAL || c->mode == MODE_V86;
    uint32_t ip = (uint32_t)c->x87_ip, dp = (uint32_t)c->x87_dp;
    if (real) {
        ip += (uint32_t)c->x87_cs << 4;
        dp += (uint32_t)c->x87_ds << 4;
    }
    if (opsize == 2) {
        st16le(image, c->x87_control);
        st16le(image + 2, x87_status_word(c));
        st16le(image + 4, x87_tag_word(c));
        st16le(image + 6, (uint16_t)ip);
        st16le(image + 8, real ? (uint16_t)((ip >> 16 & 15) << 12 | c->x87_opcode) : c->x87_cs);
        st16le(image + 10, (uint16_t)dp);
        st16le(image + 12, real ? (uint16_t)((dp >> 16 & 15) << 12) : c->x87_ds);
        return 14;
    }
    st32le(image, 0xFFFF0000u | c->x87_control);
    st32le(image + 4, 0xFFFF0000u | x87_status_word(c));
    st32le(image + 8, 0xFFFF0000u | x87_tag_word(c));
    if (real) {
        st32le(image + 12, 0xFFFF0000u | (ip & 0xFFFF));
        st32le(image + 16, (ip >> 16) << 12 | c->x87_opcode);
        st32le(image + 20, 0xFFFF0000u | (dp & 0xFFFF));
        st32le(image + 24, (dp >> 16) << 12);
    } else {
        st32le(image + 12, ip);
        st32le(image + 16, (uint32_t)c->x87_opcode << 16 | c->x87_cs);
        st32le(image + 20, dp);
        st32le(image + 24, 0xFFFF0000u | c->x87_ds);
    }
    return 28;
}
static void x87_unpack_env(struct cpu *c, unsigned opsize, const uint8_t *image)
{
    bool real = c->mode == MODE_REAL || c->mode == MODE_V86;
    unsigned step = opsize == 2 ? 2 : 4;
    x87_load_control(c, ld16le(image));
    x87_load_status(c, ld16le(image + step));
    x87_load_tags(c, ld16le(image + 2 * step));
    c->x87_cs = c->x87_ds = 0;
    if (opsize == 2) {
        c->x87_ip = ld16le(image + 6);
        c->x87_dp = ld16le(image + 10);
        if (real) {
            c->x87_ip |= (uint32_t)(ld16le(image + 8) >> 12) << 16;
            c->x87_opcode = ld16le(image + 8) & 0x7FF;
            c->x87_dp |= (uint32_t)(ld16le(image + 12) >> 12) << 16;
        } else {
            c->x87_cs = ld16le(image + 8);
            c->x87_ds = ld16le(image + 12);
        }
    } else if (real) {
        c->x87_ip = ld16le(image + 12) | (ld32le(image + 16) >> 12 & 0xFFFF) << 16;
        c->x87_opcode = ld16le(image + 16) & 0x7FF;
        c->x87_dp = ld16le(image + 20) | (ld32le(image + 24) >> 12 & 0xFFFF) << 16;
    } else {
        c->x87_ip = ld32le(image + 12);
        c->x87_cs = ld16le(image + 16);
        c->x87_opcode = ld16le(image + 18) & 0x7FF;
        c->x87_dp = ld32le(image + 20);
        c->x87_ds = ld16le(image + 24);
    }
}
static int x87_fnstenv(struct cpu *c, const struct insn *i)
{
    uint8_t image[28];
    unsigned size = x87_pack_env(c, i->opsize, image);
    int r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, size);
    if (!r)
        x87_load_control(c, c->x87_control | SF_ALL_FLAGS);
    return r;
}
static int x87_fldenv(struct cpu *c, const struct insn *i)
{
    uint8_t image[28];
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, i->opsize == 2 ? 14 : 28);
    if (!r)
        x87_unpack_env(c, i->opsize, image);
    return r;
}
static int x87_fnsave(struct cpu *c, const struct insn *i)
{
    uint8_t image[108];
    unsigned k, size = x87_pack_env(c, i->opsize, image);
    int r;
    for (k = 0; k < 8; k++) {
        st64le(image + size + 10 * k, X87_ST(c, k)->mant);
        st16le(image + size + 10 * k + 8, X87_ST(c, k)->exp);
    }
    r = cpu_store_bytes(c, i->seg, insn_address(c, i), image, size + 80);
    if (!r)
        x87_reset(c, false);
    return r;
}
static int x87_frstor(struct cpu *c, const struct insn *i)
{
    uint8_t image[108];
    unsigned k, size = i->opsize == 2 ? 14 : 28;
    int r = x87_check_pending(c);
    if (!r)
        r = cpu_load_bytes(c, i->seg, insn_address(c, i), image, size + 80);
    if (r)
        return r;
    x87_unpack_env(c, i->opsize, image);
    for (k = 0; k < 8; k++) {
        X87_ST(c, k)->mant = ld64le(image + size + 10 * k);
        X87_ST(c, k)->exp = ld16le(image + size + 10 * k + 8);
    }
    return CPU_OK;
}

/* ---- FXSAVE image: SDM vol. 1 §10.5.1, tables 10-2 and 10-3 ---- */
EMU_PRIV void x87_pack_fxsave(struct cpu *c, uint8_t image[512], bool long_form)
{
    unsigned k;
    memset(image, 0, 416);
    st16le(image, c->x87_control);
    st16le(image + 2, x87_status_word(c));
    image[4] = (uint8_t)~c->x87_tags;
    st16le(image + 6, c->x87_opcode);
    if (long_form) {
        st64le(image + 8, c->x87_ip);
        st64le(image + 16, c->x87_dp);
    } else {
        st32le(image + 8, (uint32_t)c->x87_ip);
        st16le(image + 12, c->x87_cs);
        st32le(image + 16, (uint32_t)c->x87_dp);
        st16le(image + 20, c->x87_ds);
    }
    st32le(image + 24, c->mxcsr);
    st32le(image + 28, 0xFFFF);
    for (k = 0; k < 8; k++) {
        st64le(image + 32 + 16 * k, X87_ST(c, k)->mant);
        st16le(image + 40 + 16 * k, X87_ST(c, k)->exp);
    }
    for (k = 0; k < (c->code_size == 8 ? 16u : 8u); k++) {
        st64le(image + 160 + 16 * k, VQ(&c->xmm[k], 0));
        st64le(image + 168 + 16 * k, VQ(&c->xmm[k], 1));
    }
}
EMU_PRIV void x87_unpack_fxsave(struct cpu *c, const uint8_t image[512], bool long_form)
{
    unsigned k;
    x87_load_control(c, ld16le(image));
    x87_load_status(c, ld16le(image + 2));
    c->x87_tags = (uint8_t)~image[4];
    c->x87_opcode = ld16le(image + 6) & 0x7FF;
    if (long_form) {
        c->x87_ip = ld64le(image + 8);
        c->x87_dp = ld64le(image + 16);
        c->x87_cs = c->x87_ds = 0;
    } else {
        c->x87_ip = ld32le(image + 8);
        c->x87_cs = ld16le(image + 12);
        c->x87_dp = ld32le(image + 16);
        c->x87_ds = ld16le(image + 20);
    }
    c->mxcsr = ld32le(image + 24) & 0xFFFF;
    for (k = 0; k < 8; k++) {
        X87_ST(c, k)->mant = ld64le(image + 32 + 16 * k);
        X87_ST(c, k)->exp = ld16le(image + 40 + 16 * k);
    }
    for (k = 0; k < (c->code_size == 8 ? 16u : 8u); k++) {
        VQ(&c->xmm[k], 0) = ld64le(image + 160 + 16 * k);
        VQ(&c->xmm[k], 1) = ld64le(image + 168 + 16 * k);
    }
}

/* ---- the table ---- */
#define X87_MEM(op, n, name, opnd, fn) ROW_CALL(ENC(op) | SLASH(n) | MOD_MEM, name, opnd, 0, 0, CPU_FPU, ROW_X87, 0, 0, fn)
#define X87_MEMW(op, n, name, opnd, fn) ROW_CALL(ENC(op) | SLASH(n) | MOD_MEM, name, opnd, 0, 0, CPU_FPU, ROW_X87 | ROW_WRITES_MEM, 0, 0, fn)
#define X87_REG(op, n, name, o1, o2, fn) ROW_CALL(ENC(op) | SLASH(n) | MOD_REG, name, o1, o2, 0, CPU_FPU, ROW_X87, 0, 0, fn)
#define X87_ONE(op, n, rm, name, fn) ROW_CALL(ENC(op) | SLASH(n) | RM(rm), name, 0, 0, 0, CPU_FPU, ROW_X87, 0, 0, fn)
#define X87_FLAGS(op, n, name, fr, fw, fn)                                                                             \
    ROW_CALL(ENC(op) | SLASH(n) | MOD_REG, name, OPND_ST0, OPND_STi, 0, fr ? CPU_CMOV : CPU_FPU, ROW_X87, fr, fw, fn)
#define X87_ARITH_MEM(op, p, opnd)                                                                                     \
    X87_MEM(op, 0, p "add", opnd, x87_arith_mem), X87_MEM(op, 1, p "mul", opnd, x87_arith_mem), X87_MEM(op, 2, p "com", opnd, x87_arith_mem), \
    X87_MEM(op, 3, p "comp", opnd, x87_arith_mem), X87_MEM(op, 4, p "sub", opnd, x87_arith_mem), X87_MEM(op, 5, p "subr", opnd, x87_arith_mem), \
    X87_MEM(op, 6, p "div", opnd, x87_arith_mem), X87_MEM(op, 7, p "divr", opnd, x87_arith_mem)

static const struct insn_row x87_rows[] = {
    X87_ARITH_MEM(0xD8, "f", OPND_Md),
    X87_ARITH_MEM(0xDA, "fi", OPND_Md),
    X87_ARITH_MEM(0xDC, "f", OPND_Mq),
    X87_ARITH_MEM(0xDE, "fi", OPND_Mw),
    X87_REG(0xD8, 0, "fadd", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 1, "fmul", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 2, "fcom", OPND_STi, 0, x87_fcom),
    X87_REG(0xD8, 3, "fcomp", OPND_STi, 0, x87_fcomp),
    X87_REG(0xD8, 4, "fsub", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 5, "fsubr", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 6, "fdiv", OPND_ST0, OPND_STi, x87_arith_reg),
    X87_REG(0xD8, 7, "fdivr", OPND_ST0, OPND_STi, x87_arith_reg),

    X87_MEM(0xD9, 0, "fld", OPND_Md, x87_fld_mem),
    X87_MEMW(0xD9, 2, "fst", OPND_Md, x87_fst_m32),
    X87_MEMW(0xD9, 3, "fstp", OPND_Md, x87_fst_m32),
    X87_MEM(0xD9, 4, "fldenv", OPND_M, x87_fldenv),
    X87_MEM(0xD9, 5, "fldcw", OPND_Mw, x87_fldcw),
    X87_MEMW(0xD9, 6, "fnstenv", OPND_M, x87_fnstenv),
    X87_MEMW(0xD9, 7, "fnstcw", OPND_Mw, x87_fnstcw),
    X87_REG(0xD9, 0, "fld", OPND_STi, 0, x87_fld_reg),
    X87_REG(0xD9, 1, "fxch", OPND_STi, 0, x87_fxch),
    X87_ONE(0xD9, 2, 0, "fnop", x87_fnop),
    X87_REG(0xD9, 3, "fstp", OPND_STi, 0, x87_fst_reg), /* alias of DD /3 */
    X87_ONE(0xD9, 4, 0, "fchs", x87_fchs_fabs),
    X87_ONE(0xD9, 4, 1, "fabs", x87_fchs_fabs),
    X87_ONE(0xD9, 4, 4, "ftst", x87_ftst),
    X87_ONE(0xD9, 4, 5, "fxam", x87_fxam),
    X87_ONE(0xD9, 5, 0, "fld1", x87_fld_const),
    X87_ONE(0xD9, 5, 1, "fldl2t", x87_fld_const),
    X87_ONE(0xD9, 5, 2, "fldl2e", x87_fld_const),
    X87_ONE(0xD9, 5, 3, "fldpi", x87_fld_const),
    X87_ONE(0xD9, 5, 4, "fldlg2", x87_fld_const),
    X87_ONE(0xD9, 5, 5, "fldln2", x87_fld_const),
    X87_ONE(0xD9, 5, 6, "fldz", x87_fld_const),
    X87_ONE(0xD9, 6, 0, "f2xm1", x87_f2xm1),
    X87_ONE(0xD9, 6, 1, "fyl2x", x87_fyl2x),
    X87_ONE(0xD9, 6, 2, "fptan", x87_fsincos_fptan),
    X87_ONE(0xD9, 6, 3, "fpatan", x87_fpatan),
    X87_ONE(0xD9, 6, 4, "fxtract", x87_fxtract),
    X87_ONE(0xD9, 6, 5, "fprem1", x87_fprem),
    X87_ONE(0xD9, 6, 6, "fdecstp", x87_fincstp),
    X87_ONE(0xD9, 6, 7, "fincstp", x87_fincstp),
    X87_ONE(0xD9, 7, 0, "fprem", x87_fprem),
    X87_ONE(0xD9, 7, 1, "fyl2xp1", x87_fyl2xp1),
    X87_ONE(0xD9, 7, 2, "fsqrt", x87_fsqrt),
    X87_ONE(0xD9, 7, 3, "fsincos", x87_fsincos_fptan),
    X87_ONE(0xD9, 7, 4, "frndint", x87_frndint),
    X87_ONE(0xD9, 7, 5, "fscale", x87_fscale),
    X87_ONE(0xD9, 7, 6, "fsin", x87_fsin_fcos),
    X87_ONE(0xD9, 7, 7, "fcos", x87_fsin_fcos),

    X87_FLAGS(0xDA, 0, "fcmovb", FLAG_CF, 0, x87_fcmov),
    X87_FLAGS(0xDA, 1, "fcmove", FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDA, 2, "fcmovbe", FLAG_CF | FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDA, 3, "fcmovu", FLAG_PF, 0, x87_fcmov),
    X87_ONE(0xDA, 5, 1, "fucompp", x87_fucompp),

    X87_MEM(0xDB, 0, "fild", OPND_Md, x87_fld_mem),
    X87_MEMW(0xDB, 1, "fisttp", OPND_Md, x87_fisttp_m32),
    X87_MEMW(0xDB, 2, "fist", OPND_Md, x87_fist_m32),
    X87_MEMW(0xDB, 3, "fistp", OPND_Md, x87_fist_m32),
    X87_MEM(0xDB, 5, "fld", OPND_Mt, x87_fld_m80),
    X87_MEMW(0xDB, 7, "fstp", OPND_Mt, x87_fstp_m80),
    X87_FLAGS(0xDB, 0, "fcmovnb", FLAG_CF, 0, x87_fcmov),
    X87_FLAGS(0xDB, 1, "fcmovne", FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDB, 2, "fcmovnbe", FLAG_CF | FLAG_ZF, 0, x87_fcmov),
    X87_FLAGS(0xDB, 3, "fcmovnu", FLAG_PF, 0, x87_fcmov),
    X87_ONE(0xDB, 4, 0, "fneni", x87_8087_nop),
    X87_ONE(0xDB, 4, 1, "fndisi", x87_8087_nop),
    X87_ONE(0xDB, 4, 2, "fnclex", x87_fnclex),
    X87_ONE(0xDB, 4, 3, "fninit", x87_fninit),
    X87_ONE(0xDB, 4, 4, "fnsetpm", x87_8087_nop),
    X87_FLAGS(0xDB, 5, "fucomi", 0, FLAGS_ARITH, x87_fucomi),
    X87_FLAGS(0xDB, 6, "fcomi", 0, FLAGS_ARITH, x87_fcomi),

    X87_REG(0xDC, 0, "fadd", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 1, "fmul", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 2, "fcom", OPND_STi, 0, x87_fcom),
    X87_REG(0xDC, 3, "fcomp", OPND_STi, 0, x87_fcomp),
    X87_REG(0xDC, 4, "fsubr", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 5, "fsub", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 6, "fdivr", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDC, 7, "fdiv", OPND_STi, OPND_ST0, x87_arith_reg),

    X87_MEM(0xDD, 0, "fld", OPND_Mq, x87_fld_mem),
    X87_MEMW(0xDD, 1, "fisttp", OPND_Mq, x87_fisttp_m64),
    X87_MEMW(0xDD, 2, "fst", OPND_Mq, x87_fst_m64),
    X87_MEMW(0xDD, 3, "fstp", OPND_Mq, x87_fst_m64),
    X87_MEM(0xDD, 4, "frstor", OPND_M, x87_frstor),
    X87_MEMW(0xDD, 6, "fnsave", OPND_M, x87_fnsave),
    X87_MEMW(0xDD, 7, "fnstsw", OPND_Mw, x87_fnstsw),
    X87_REG(0xDD, 0, "ffree", OPND_STi, 0, x87_ffree),
    X87_REG(0xDD, 1, "fxch", OPND_STi, 0, x87_fxch),
    X87_REG(0xDD, 2, "fst", OPND_STi, 0, x87_fst_reg),
    X87_REG(0xDD, 3, "fstp", OPND_STi, 0, x87_fst_reg),
    X87_REG(0xDD, 4, "fucom", OPND_STi, 0, x87_fucom),
    X87_REG(0xDD, 5, "fucomp", OPND_STi, 0, x87_fucomp),

    X87_REG(0xDE, 0, "faddp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 1, "fmulp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 2, "fcomp", OPND_STi, 0, x87_fcomp),
    X87_ONE(0xDE, 3, 1, "fcompp", x87_fcompp),
    X87_REG(0xDE, 4, "fsubrp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 5, "fsubp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 6, "fdivrp", OPND_STi, OPND_ST0, x87_arith_reg),
    X87_REG(0xDE, 7, "fdivp", OPND_STi, OPND_ST0, x87_arith_reg),

    X87_MEM(0xDF, 0, "fild", OPND_Mw, x87_fld_mem),
    X87_MEMW(0xDF, 1, "fisttp", OPND_Mw, x87_fisttp_m16),
    X87_MEMW(0xDF, 2, "fist", OPND_Mw, x87_fist_m16),
    X87_MEMW(0xDF, 3, "fistp", OPND_Mw, x87_fist_m16),
    X87_MEM(0xDF, 4, "fbld", OPND_Mt, x87_fbld),
    X87_MEM(0xDF, 5, "fild", OPND_Mq, x87_fld_mem),
    X87_MEMW(0xDF, 6, "fbstp", OPND_Mt, x87_fbstp),
    X87_MEMW(0xDF, 7, "fistp", OPND_Mq, x87_fistp_m64),
    X87_REG(0xDF, 0, "ffreep", OPND_STi, 0, x87_ffree),
    X87_REG(0xDF, 1, "fxch", OPND_STi, 0, x87_fxch),
    X87_REG(0xDF, 2, "fstp", OPND_STi, 0, x87_fst_reg),
    X87_REG(0xDF, 3, "fstp", OPND_STi, 0, x87_fst_reg),
    ROW_CALL(ENC(0xDF) | SLASH(4) | RM(0), "fnstsw", OPND_AX, 0, 0, CPU_FPU, ROW_X87, 0, 0, x87_fnstsw_ax),
    X87_FLAGS(0xDF, 5, "fucomip", 0, FLAGS_ARITH, x87_fucomip),
    X87_FLAGS(0xDF, 6, "fcomip", 0, FLAGS_ARITH, x87_fcomip),
    ROW_CALL(ENC(0x9B), "fwait", 0, 0, 0, CPU_ALWAYS, 0, 0, 0, x87_fwait),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
};
EMU_PRIV const struct insn_row *cpu_rows_x87(void) { return x87_rows; }
#undef X87_MEM
#undef X87_MEMW
#undef X87_REG
#undef X87_ONE
#undef X87_FLAGS
#undef X87_ARITH_MEM
#undef X87_ST
#undef X87_MODRM_REG
#undef X87_MODRM_RM
#undef X87_PARTIAL_STEP

/* ======================================== src/cpu/mmx.c ======================================== */

/* cpu/mmx.c - packed integers: every instruction that MMX brought, in its 64-bit MMX and its 128-bit SSE2 form.
 *
 * Models     SDM vol. 1 chapters 9 to 11, vol. 2 (PADDB to PXOR, MOVD, MOVQ, MOVDQA, PSHUFx, MASKMOVx, EMMS).
 * Contract   cpu_rows_mmx() gives decode.c the rows. The operations are vec_fn (see cpu.h): pure functions of registers; MASKMOVx and EMMS are
 *            insn_fn. The engine checks CR0.EM/TS and pending x87 exceptions, and sets the tags, where a row says ROW_MMX.
 * Theory     One body stands for both widths: VEC_LANES where lane i of the result depends on lane i of the operands alone, VEC_BODY where
 *            lanes move. Element numbers are the guest's through VB, VW, VD, VQ.
 * Invariants 1. An operation writes 8 (MMX) or 16 bytes of d, never more: legacy SSE keeps the upper half of YMM.
 *            2. d may be a or b.
 */

/* ---- moves ---- */
VEC_FN(mov128)
{
    (void)c, (void)a, (void)imm;
    memmove(d, b, 16);
    return CPU_OK;
}
VEC_FN(mov64) /* keeps the rest */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN(mov64_zero) /* clears bits 64 to 127 */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    VQ(d, 1) = 0;
    return CPU_OK;
}
VEC_FN(mov32_zero64)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VD(b, 0);
    return CPU_OK;
}
/* ---- additions, comparisons, logic ---- */
VEC_LANES(paddb, uint8_t, uint8_t, x + y)
VEC_LANES(paddw, uint16_t, uint16_t, x + y)
VEC_LANES(paddd, uint32_t, uint32_t, x + y)
VEC_LANES(paddq, uint64_t, uint64_t, x + y)
VEC_LANES(psubb, uint8_t, uint8_t, x - y)
VEC_LANES(psubw, uint16_t, uint16_t, x - y)
VEC_LANES(psubd, uint32_t, uint32_t, x - y)
VEC_LANES(psubq, uint64_t, uint64_t, x - y)
VEC_LANES(paddsb, int8_t, int8_t, vec_clamp(x + y, -128, 127))
VEC_LANES(paddsw, int16_t, int16_t, vec_clamp(x + y, -32768, 32767))
VEC_LANES(psubsb, int8_t, int8_t, vec_clamp(x - y, -128, 127))
VEC_LANES(psubsw, int16_t, int16_t, vec_clamp(x - y, -32768, 32767))
VEC_LANES(paddusb, uint8_t, uint8_t, x + y > 255 ? 255 : x + y)
VEC_LANES(paddusw, uint16_t, uint16_t, x + y > 65535 ? 65535 : x + y)
VEC_LANES(psubusb, uint8_t, uint8_t, x > y ? x - y : 0)
VEC_LANES(psubusw, uint16_t, uint16_t, x > y ? x - y : 0)
VEC_LANES(pcmpeqb, uint8_t, uint8_t, x == y ? 0xFF : 0)
VEC_LANES(pcmpeqw, uint16_t, uint16_t, x == y ? 0xFFFF : 0)
VEC_LANES(pcmpeqd, uint32_t, uint32_t, x == y ? UINT32_MAX : 0)
VEC_LANES(pcmpgtb, int8_t, uint8_t, x > y ? 0xFF : 0)
VEC_LANES(pcmpgtw, int16_t, uint16_t, x > y ? 0xFFFF : 0)
VEC_LANES(pcmpgtd, int32_t, uint32_t, x > y ? UINT32_MAX : 0)
VEC_LANES(pand, uint64_t, uint64_t, x & y)
VEC_LANES(pandn, uint64_t, uint64_t, ~x & y)
VEC_LANES(por, uint64_t, uint64_t, x | y)
VEC_LANES(pxor, uint64_t, uint64_t, x ^ y)
VEC_LANES(pavgb, uint8_t, uint8_t, (x + y + 1) >> 1)
VEC_LANES(pavgw, uint16_t, uint16_t, (x + y + 1) >> 1)
VEC_LANES(pminub, uint8_t, uint8_t, x < y ? x : y)
VEC_LANES(pmaxub, uint8_t, uint8_t, x > y ? x : y)
VEC_LANES(pminsw, int16_t, int16_t, x < y ? x : y)
VEC_LANES(pmaxsw, int16_t, int16_t, x > y ? x : y)

/* ---- multiplications ---- */
VEC_LANES(pmullw, uint16_t, uint16_t, (uint32_t)x * y)
VEC_LANES(pmulhuw, uint16_t, uint16_t, ((uint32_t)x * y) >> 16)
VEC_LANES(pmulhw, int16_t, uint16_t, (uint32_t)((int32_t)x * y) >> 16)
VEC_LANES(pmuludq, uint64_t, uint64_t, (x & UINT32_MAX) * (y & UINT32_MAX))
VEC_BODY(pmaddwd, {
    unsigned i;
    for (i = 0; i < bytes / 4; i++)
        VD(&vr, i) = (uint32_t)((int32_t)(int16_t)VW(&va, 2 * i) * (int16_t)VW(&vb, 2 * i)) +
                     (uint32_t)((int32_t)(int16_t)VW(&va, 2 * i + 1) * (int16_t)VW(&vb, 2 * i + 1));
})
VEC_BODY(psadbw, {
    unsigned i, q;
    for (q = 0; q < bytes / 8; q++) {
        unsigned sum = 0;
        for (i = 0; i < 8; i++) {
            int diff = VB(&va, 8 * q + i) - VB(&vb, 8 * q + i);
            sum += (unsigned)(diff < 0 ? -diff : diff);
        }
        VQ(&vr, q) = sum;
    }
})

/* ---- shifts: by a register's low 64 bits, or by an immediate ---- */
static uint64_t mmx_count(uint64_t n, unsigned bits) { return n < bits ? n : bits; }
#define MMX_SHIFT(name, T, bits, result, over)                                                                         \
    EMU_INLINE void mmx_do_##name(union vec *d, const union vec *a, uint64_t count, unsigned bytes)                    \
    {                                                                                                                  \
        T v[16 / sizeof(T)];                                                                                           \
        unsigned lane, n = (unsigned)mmx_count(count, bits);                                                           \
        memcpy(v, a, bytes);                                                                                           \
        if (n == bits)                                                                                                 \
            for (lane = 0; lane < bytes / sizeof(T); lane++)                                                           \
                v[lane] = (T)(over);                                                                                   \
        else                                                                                                           \
            for (lane = 0; lane < bytes / sizeof(T); lane++)                                                           \
                v[lane] = (T)(result);                                                                                 \
        memcpy(d, v, bytes);                                                                                           \
    }                                                                                                                  \
    VEC_FN(name) { return (void)c, (void)imm, mmx_do_##name(d, a, VQ(b, 0), 16), CPU_OK; }                             \
    VEC_FN(mmx_##name) { return (void)c, (void)imm, mmx_do_##name(d, a, VQ(b, 0), 8), CPU_OK; }                        \
    VEC_FN(name##_i) { return (void)c, (void)b, mmx_do_##name(d, a, imm, 16), CPU_OK; }                                \
    VEC_FN(mmx_##name##_i) { return (void)c, (void)b, mmx_do_##name(d, a, imm, 8), CPU_OK; }
MMX_SHIFT(psrlw, uint16_t, 16, v[lane] >> n, 0)
MMX_SHIFT(psrld, uint32_t, 32, v[lane] >> n, 0)
MMX_SHIFT(psrlq, uint64_t, 64, v[lane] >> n, 0)
MMX_SHIFT(psllw, uint16_t, 16, (uint32_t)v[lane] << n, 0)
MMX_SHIFT(pslld, uint32_t, 32, v[lane] << n, 0)
MMX_SHIFT(psllq, uint64_t, 64, v[lane] << n, 0)
MMX_SHIFT(psraw, uint16_t, 16, v[lane] & 0x8000u ? ~((uint16_t)~v[lane] >> n) : v[lane] >> n, (v[lane] & 0x8000u) ? 0xFFFF : 0)
MMX_SHIFT(psrad, uint32_t, 32, v[lane] >> 31 ? ~(~v[lane] >> n) : v[lane] >> n, v[lane] >> 31 ? UINT32_MAX : 0)
#undef MMX_SHIFT

VEC_FN(psrldq)
{
    uint64_t lo = VQ(a, 0), hi = VQ(a, 1);
    unsigned n = imm > 15 ? 16 : imm;
    (void)c, (void)b;
    VQ(d, 0) = n >= 16 ? 0 : n > 8 ? hi >> (8 * n - 64) : n == 8 ? hi : n ? lo >> (8 * n) | hi << (64 - 8 * n) : lo;
    VQ(d, 1) = n >= 8 ? 0 : hi >> (8 * n);
    return CPU_OK;
}
VEC_FN(pslldq)
{
    uint64_t lo = VQ(a, 0), hi = VQ(a, 1);
    unsigned n = imm > 15 ? 16 : imm;
    (void)c, (void)b;
    VQ(d, 1) = n >= 16 ? 0 : n > 8 ? lo << (8 * n - 64) : n == 8 ? lo : n ? hi << (8 * n) | lo >> (64 - 8 * n) : hi;
    VQ(d, 0) = n >= 8 ? 0 : lo << (8 * n);
    return CPU_OK;
}

/* ---- packing and unpacking ---- */
VEC_BODY(packsswb, {
    unsigned i, h = bytes / 2;
    for (i = 0; i < h; i++) {
        VB(&vr, i) = (uint8_t)vec_clamp((int16_t)VW(&va, i), -128, 127);
        VB(&vr, h + i) = (uint8_t)vec_clamp((int16_t)VW(&vb, i), -128, 127);
    }
})
VEC_BODY(packuswb, {
    unsigned i, h = bytes / 2;
    for (i = 0; i < h; i++) {
        VB(&vr, i) = (uint8_t)vec_clamp((int16_t)VW(&va, i), 0, 255);
        VB(&vr, h + i) = (uint8_t)vec_clamp((int16_t)VW(&vb, i), 0, 255);
    }
})
VEC_BODY(packssdw, {
    unsigned i, h = bytes / 4;
    for (i = 0; i < h; i++) {
        VW(&vr, i) = (uint16_t)vec_clamp((int32_t)VD(&va, i), -32768, 32767);
        VW(&vr, h + i) = (uint16_t)vec_clamp((int32_t)VD(&vb, i), -32768, 32767);
    }
})
#define MMX_UNPACK(name, V, size, high)                                                                                \
    VEC_BODY(name, {                                                                                                   \
        unsigned i, first = (high) ? bytes / (size) / 2 : 0;                                                           \
        for (i = 0; i < bytes / (size) / 2; i++) {                                                                     \
            V(&vr, 2 * i) = V(&va, first + i);                                                                         \
            V(&vr, 2 * i + 1) = V(&vb, first + i);                                                                     \
        }                                                                                                              \
    })
MMX_UNPACK(punpcklbw, VB, 1, 0)
MMX_UNPACK(punpcklwd, VW, 2, 0)
MMX_UNPACK(punpckldq, VD, 4, 0)
MMX_UNPACK(punpckhbw, VB, 1, 1)
MMX_UNPACK(punpckhwd, VW, 2, 1)
MMX_UNPACK(punpckhdq, VD, 4, 1)
#undef MMX_UNPACK
VEC_FN(punpcklqdq)
{
    (void)c, (void)imm;
    VQ(d, 1) = VQ(b, 0);
    VQ(d, 0) = VQ(a, 0);
    return CPU_OK;
}
VEC_FN(punpckhqdq)
{
    uint64_t high = VQ(b, 1);
    (void)c, (void)imm;
    VQ(d, 0) = VQ(a, 1);
    VQ(d, 1) = high;
    return CPU_OK;
}

/* ---- shuffles, inserts, extracts, masks ---- */
VEC_FN(mmx_pshufw)
VEC_BODY_N(8, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VW(&vr, i) = VW(&vb, (imm >> (2 * i)) & 3);
})
VEC_FN(pshufd)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VD(&vr, i) = VD(&vb, (imm >> (2 * i)) & 3);
})
VEC_FN(pshuflw)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VW(&vr, i) = VW(&vb, (imm >> (2 * i)) & 3);
    VQ(&vr, 1) = VQ(&vb, 1);
})
VEC_FN(pshufhw)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VW(&vr, 4 + i) = VW(&vb, 4 + ((imm >> (2 * i)) & 3));
    VQ(&vr, 0) = VQ(&vb, 0);
})
VEC_FN(pinsrw)
{
    (void)c, (void)a;
    VW(d, imm & 7) = VW(b, 0);
    return CPU_OK;
}
VEC_FN(mmx_pinsrw)
{
    (void)c, (void)a;
    VW(d, imm & 3) = VW(b, 0);
    return CPU_OK;
}
VEC_FN(pextrw)
{
    (void)c, (void)a;
    VQ(d, 0) = VW(b, imm & 7);
    return CPU_OK;
}
VEC_FN(mmx_pextrw)
{
    (void)c, (void)a;
    VQ(d, 0) = VW(b, imm & 3);
    return CPU_OK;
}
/* The eight bytes' top bits, first byte in bit 0: the multiplication gathers them in the top byte without carries. */
static unsigned mmx_byte_signs(uint64_t q)
{
    return (unsigned)(((q >> 7 & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080)) >> 56);
}
VEC_FN(pmovmskb)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = mmx_byte_signs(VQ(b, 0)) | mmx_byte_signs(VQ(b, 1)) << 8;
    return CPU_OK;
}
VEC_FN(mmx_pmovmskb)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = mmx_byte_signs(VQ(b, 0));
    return CPU_OK;
}

/* ---- plain C ---- */

/* Stores the bytes of src whose mask byte has its top bit set at segment:rDI, as few stores as may be; all are checked first, so that
 * a fault leaves memory as it was. */
static int mmx_mask_store(struct cpu *c, const struct insn *i, const union vec *src, const union vec *mask, unsigned bytes)
{
    uint64_t base = c->gpr[REG_RDI], wrap = i->addrsize == 8 ? UINT64_MAX : i->addrsize == 4 ? UINT32_MAX : UINT16_MAX;
    unsigned k, pass;
    for (pass = 0; pass < 2; pass++)
        for (k = 0; k < bytes; k++) {
            uint64_t offset = (base + k) & wrap;
            int r;
            if (!(VB(mask, k) & 0x80))
                continue;
            r = pass ? cpu_store(c, i->seg, offset, 1, VB(src, k)) : cpu_check_store(c, i->seg, offset, 1);
            if (r)
                return r;
        }
    return CPU_OK;
}
static int mmx_maskmovdqu(struct cpu *c, const struct insn *i)
{
    return mmx_mask_store(c, i, &c->xmm[i->reg], &c->xmm[i->rm], 16);
}
static int mmx_maskmovq(struct cpu *c, const struct insn *i)
{
    union vec src, mask;
    int r = mmx_enter(c);
    if (r)
        return r;
    memset(&src, 0, sizeof src);
    memset(&mask, 0, sizeof mask);
    VQ(&src, 0) = c->x87[i->reg & 7].mant;
    VQ(&mask, 0) = c->x87[i->rm & 7].mant;
    return mmx_mask_store(c, i, &src, &mask, 8);
}
static int mmx_emms(struct cpu *c, const struct insn *i)
{
    uint8_t top = c->x87_top;
    int r = mmx_enter(c);
    (void)i;
    if (r)
        return r;
    c->x87_top = top;
    c->x87_tags = 0xFF;
    return CPU_OK;
}

/* ---- the table ---- */
#define MMX_M ROW_MMX
#define MMX_S ROW_SSE
/* Both forms of one opcode: MMX without a prefix, XMM with 66. */
#define MMX_PAIR(op, name, needs_mmx, fn)                                                                              \
    ROW_VEC(ENC0F(op) | PFX_NP, name, OPND_Pq, OPND_Qq, 0, needs_mmx, MMX_M, 0, mmx_##fn),                             \
    ROW_VEC(ENC0F(op) | PFX_66, name, OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, fn)
#define MMX_SHIFTS(op, n, name, fn)                                                                                    \
    ROW_VEC(ENC0F(op) | PFX_NP | SLASH(n) | MOD_REG, name, OPND_Nq, OPND_Ib, 0, CPU_MMX, MMX_M, 0, mmx_##fn),          \
    ROW_VEC(ENC0F(op) | PFX_66 | SLASH(n) | MOD_REG, name, OPND_Ux, OPND_Ib, 0, CPU_SSE2, MMX_S, 0, fn)

static const struct insn_row mmx_rows[] = {
    MMX_PAIR(0x61, "punpcklwd", CPU_MMX, punpcklwd),
    MMX_PAIR(0x63, "packsswb", CPU_MMX, packsswb),
    MMX_PAIR(0x64, "pcmpgtb", CPU_MMX, pcmpgtb),
    MMX_PAIR(0x65, "pcmpgtw", CPU_MMX, pcmpgtw),
    MMX_PAIR(0x66, "pcmpgtd", CPU_MMX, pcmpgtd),
    MMX_PAIR(0x67, "packuswb", CPU_MMX, packuswb),
    MMX_PAIR(0x68, "punpckhbw", CPU_MMX, punpckhbw),
    MMX_PAIR(0x69, "punpckhwd", CPU_MMX, punpckhwd),
    MMX_PAIR(0x6A, "punpckhdq", CPU_MMX, punpckhdq),
    MMX_PAIR(0x6B, "packssdw", CPU_MMX, packssdw),
    /* the low halves read only 4 bytes in MMX form */
    ROW_VEC(ENC0F(0x60) | PFX_NP, "punpcklbw", OPND_Pq, OPND_Qd, 0, CPU_MMX, MMX_M, 0, mmx_punpcklbw),
    ROW_VEC(ENC0F(0x60) | PFX_66, "punpcklbw", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpcklbw),
    ROW_VEC(ENC0F(0x62) | PFX_NP, "punpckldq", OPND_Pq, OPND_Qd, 0, CPU_MMX, MMX_M, 0, mmx_punpckldq),
    ROW_VEC(ENC0F(0x62) | PFX_66, "punpckldq", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpckldq),
    ROW_VEC(ENC0F(0x6C) | PFX_66, "punpcklqdq", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpcklqdq),
    ROW_VEC(ENC0F(0x6D) | PFX_66, "punpckhqdq", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpckhqdq),

    ROW_VEC(ENC0F(0x6E) | PFX_NP | W0, "movd", OPND_Pq, OPND_Ed, 0, CPU_MMX, MMX_M, 0, mov64),
    ROW_VEC(ENC0F(0x6E) | PFX_NP | W1, "movq", OPND_Pq, OPND_Eq, 0, CPU_MMX, MMX_M, 0, mov64),
    ROW_VEC(ENC0F(0x6E) | PFX_66 | W0, "movd", OPND_Vx, OPND_Ed, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC(ENC0F(0x6E) | PFX_66 | W1, "movq", OPND_Vx, OPND_Eq, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC(ENC0F(0x7E) | PFX_NP | W0, "movd", OPND_Ed, OPND_Pq, 0, CPU_MMX, MMX_M | ROW_WRITES_MEM, 0, mov32_zero64),
    ROW_VEC(ENC0F(0x7E) | PFX_NP | W1, "movq", OPND_Eq, OPND_Pq, 0, CPU_MMX, MMX_M | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC(ENC0F(0x7E) | PFX_66 | W0, "movd", OPND_Ed, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov32_zero64),
    ROW_VEC(ENC0F(0x7E) | PFX_66 | W1, "movq", OPND_Eq, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC(ENC0F(0x7E) | PFX_F3, "movq", OPND_Vx, OPND_Wq, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC(ENC0F(0xD6) | PFX_66 | MOD_REG, "movq", OPND_Ux, OPND_Vx, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC(ENC0F(0xD6) | PFX_66 | MOD_MEM, "movq", OPND_Wq, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC(ENC0F(0xD6) | PFX_F3 | MOD_REG, "movq2dq", OPND_Vx, OPND_Nq, 0, CPU_SSE2, MMX_S | MMX_M, 0, mov64_zero),
    ROW_VEC(ENC0F(0xD6) | PFX_F2 | MOD_REG, "movdq2q", OPND_Pq, OPND_Ux, 0, CPU_SSE2, MMX_S | MMX_M, 0, mov64),
    ROW_VEC(ENC0F(0x6F) | PFX_NP, "movq", OPND_Pq, OPND_Qq, 0, CPU_MMX, MMX_M, 0, mov64),
    ROW_VEC(ENC0F(0x6F) | PFX_66, "movdqa", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, mov128),
    ROW_VEC(ENC0F(0x6F) | PFX_F3, "movdqu", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S | ROW_UNALIGNED, 0, mov128),
    ROW_VEC(ENC0F(0x7F) | PFX_NP, "movq", OPND_Qq, OPND_Pq, 0, CPU_MMX, MMX_M | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC(ENC0F(0x7F) | PFX_66, "movdqa", OPND_Wx, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov128),
    ROW_VEC(ENC0F(0x7F) | PFX_F3, "movdqu", OPND_Wx, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM | ROW_UNALIGNED, 0, mov128),
    ROW_VEC(ENC0F(0xF0) | PFX_F2 | MOD_MEM, "lddqu", OPND_Vx, OPND_Wx, 0, CPU_SSE3, MMX_S | ROW_UNALIGNED, 0, mov128),
    ROW_VEC(ENC0F(0xE7) | PFX_NP | MOD_MEM, "movntq", OPND_Qq, OPND_Pq, 0, CPU_SSE, MMX_M | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC(ENC0F(0xE7) | PFX_66 | MOD_MEM, "movntdq", OPND_Wx, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov128),

    ROW_VEC(ENC0F(0x70) | PFX_NP, "pshufw", OPND_Pq, OPND_Qq, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pshufw),
    ROW_VEC(ENC0F(0x70) | PFX_66, "pshufd", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSE2, MMX_S, 0, pshufd),
    ROW_VEC(ENC0F(0x70) | PFX_F3, "pshufhw", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSE2, MMX_S, 0, pshufhw),
    ROW_VEC(ENC0F(0x70) | PFX_F2, "pshuflw", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSE2, MMX_S, 0, pshuflw),
    MMX_SHIFTS(0x71, 2, "psrlw", psrlw_i),
    MMX_SHIFTS(0x71, 4, "psraw", psraw_i),
    MMX_SHIFTS(0x71, 6, "psllw", psllw_i),
    MMX_SHIFTS(0x72, 2, "psrld", psrld_i),
    MMX_SHIFTS(0x72, 4, "psrad", psrad_i),
    MMX_SHIFTS(0x72, 6, "pslld", pslld_i),
    MMX_SHIFTS(0x73, 2, "psrlq", psrlq_i),
    MMX_SHIFTS(0x73, 6, "psllq", psllq_i),
    ROW_VEC(ENC0F(0x73) | PFX_66 | SLASH(3) | MOD_REG, "psrldq", OPND_Ux, OPND_Ib, 0, CPU_SSE2, MMX_S, 0, psrldq),
    ROW_VEC(ENC0F(0x73) | PFX_66 | SLASH(7) | MOD_REG, "pslldq", OPND_Ux, OPND_Ib, 0, CPU_SSE2, MMX_S, 0, pslldq),
    MMX_PAIR(0x74, "pcmpeqb", CPU_MMX, pcmpeqb),
    MMX_PAIR(0x75, "pcmpeqw", CPU_MMX, pcmpeqw),
    MMX_PAIR(0x76, "pcmpeqd", CPU_MMX, pcmpeqd),
    ROW_CALL(ENC0F(0x77) | PFX_NP, "emms", 0, 0, 0, CPU_MMX, 0, 0, 0, mmx_emms),

    ROW_VEC(ENC0F(0xC4) | PFX_NP | MOD_REG, "pinsrw", OPND_Pq, OPND_Rd, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pinsrw),
    ROW_VEC(ENC0F(0xC4) | PFX_NP | MOD_MEM, "pinsrw", OPND_Pq, OPND_Mw, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pinsrw),
    ROW_VEC(ENC0F(0xC4) | PFX_66 | MOD_REG, "pinsrw", OPND_Vx, OPND_Rd, OPND_Ib, CPU_SSE2, MMX_S, 0, pinsrw),
    ROW_VEC(ENC0F(0xC4) | PFX_66 | MOD_MEM, "pinsrw", OPND_Vx, OPND_Mw, OPND_Ib, CPU_SSE2, MMX_S, 0, pinsrw),
    ROW_VEC(ENC0F(0xC5) | PFX_NP | MOD_REG, "pextrw", OPND_Gd, OPND_Nq, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pextrw),
    ROW_VEC(ENC0F(0xC5) | PFX_66 | MOD_REG, "pextrw", OPND_Gd, OPND_Ux, OPND_Ib, CPU_SSE2, MMX_S, 0, pextrw),
    ROW_VEC(ENC0F(0xD7) | PFX_NP | MOD_REG, "pmovmskb", OPND_Gd, OPND_Nq, 0, CPU_SSE, MMX_M, 0, mmx_pmovmskb),
    ROW_VEC(ENC0F(0xD7) | PFX_66 | MOD_REG, "pmovmskb", OPND_Gd, OPND_Ux, 0, CPU_SSE2, MMX_S, 0, pmovmskb),

    MMX_PAIR(0xD1, "psrlw", CPU_MMX, psrlw),
    MMX_PAIR(0xD2, "psrld", CPU_MMX, psrld),
    MMX_PAIR(0xD3, "psrlq", CPU_MMX, psrlq),
    MMX_PAIR(0xD4, "paddq", CPU_SSE2, paddq),
    MMX_PAIR(0xD5, "pmullw", CPU_MMX, pmullw),
    MMX_PAIR(0xD8, "psubusb", CPU_MMX, psubusb),
    MMX_PAIR(0xD9, "psubusw", CPU_MMX, psubusw),
    MMX_PAIR(0xDA, "pminub", CPU_SSE, pminub),
    MMX_PAIR(0xDB, "pand", CPU_MMX, pand),
    MMX_PAIR(0xDC, "paddusb", CPU_MMX, paddusb),
    MMX_PAIR(0xDD, "paddusw", CPU_MMX, paddusw),
    MMX_PAIR(0xDE, "pmaxub", CPU_SSE, pmaxub),
    MMX_PAIR(0xDF, "pandn", CPU_MMX, pandn),
    MMX_PAIR(0xE0, "pavgb", CPU_SSE, pavgb),
    MMX_PAIR(0xE1, "psraw", CPU_MMX, psraw),
    MMX_PAIR(0xE2, "psrad", CPU_MMX, psrad),
    MMX_PAIR(0xE3, "pavgw", CPU_SSE, pavgw),
    MMX_PAIR(0xE4, "pmulhuw", CPU_SSE, pmulhuw),
    MMX_PAIR(0xE5, "pmulhw", CPU_MMX, pmulhw),
    MMX_PAIR(0xE8, "psubsb", CPU_MMX, psubsb),
    MMX_PAIR(0xE9, "psubsw", CPU_MMX, psubsw),
    MMX_PAIR(0xEA, "pminsw", CPU_SSE, pminsw),
    MMX_PAIR(0xEB, "por", CPU_MMX, por),
    MMX_PAIR(0xEC, "paddsb", CPU_MMX, paddsb),
    MMX_PAIR(0xED, "paddsw", CPU_MMX, paddsw),
    MMX_PAIR(0xEE, "pmaxsw", CPU_SSE, pmaxsw),
    MMX_PAIR(0xEF, "pxor", CPU_MMX, pxor),
    MMX_PAIR(0xF1, "psllw", CPU_MMX, psllw),
    MMX_PAIR(0xF2, "pslld", CPU_MMX, pslld),
    MMX_PAIR(0xF3, "psllq", CPU_MMX, psllq),
    MMX_PAIR(0xF4, "pmuludq", CPU_SSE2, pmuludq),
    MMX_PAIR(0xF5, "pmaddwd", CPU_MMX, pmaddwd),
    MMX_PAIR(0xF6, "psadbw", CPU_SSE, psadbw),
    ROW_CALL(ENC0F(0xF7) | PFX_NP | MOD_REG, "maskmovq", OPND_Pq, OPND_Nq, 0, CPU_SSE, ROW_WRITES_MEM, 0, 0, mmx_maskmovq),
    ROW_CALL(ENC0F(0xF7) | PFX_66 | MOD_REG, "maskmovdqu", OPND_Vx, OPND_Ux, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, 0, mmx_maskmovdqu),
    MMX_PAIR(0xF8, "psubb", CPU_MMX, psubb),
    MMX_PAIR(0xF9, "psubw", CPU_MMX, psubw),
    MMX_PAIR(0xFA, "psubd", CPU_MMX, psubd),
    MMX_PAIR(0xFB, "psubq", CPU_SSE2, psubq),
    MMX_PAIR(0xFC, "paddb", CPU_MMX, paddb),
    MMX_PAIR(0xFD, "paddw", CPU_MMX, paddw),
    MMX_PAIR(0xFE, "paddd", CPU_MMX, paddd),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
};
EMU_PRIV const struct insn_row *cpu_rows_mmx(void) { return mmx_rows; }
#undef MMX_M
#undef MMX_S
#undef MMX_PAIR
#undef MMX_SHIFTS

/* ======================================== src/cpu/sse.c ======================================== */

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
#define SSE_E64 UINT64_C(0x7FF0000000000000)
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
EMU_ALWAYS_INLINE bool sse_safe64(uint64_t r) { return (r & SSE_E64) - (UINT64_C(2) << 52) < (UINT64_C(0x7FD) << 52); }
EMU_ALWAYS_INLINE bool sse_plain32(uint32_t x) { return (x & SSE_E32) - 0x00800000u < 0x7F000000u || !(x << 1); } /* normal or zero */
EMU_ALWAYS_INLINE bool sse_plain64(uint64_t x)
{
    return (x & SSE_E64) - (UINT64_C(1) << 52) < (UINT64_C(0x7FE) << 52) || !(x << 1);
}
/* Neither NaN nor denormal: comparisons raise no flag. */
EMU_ALWAYS_INLINE bool sse_ordered32(uint32_t x) { return (x & SSE_E32) ? (x << 1) <= 0xFF000000u : !(x << 1); }
EMU_ALWAYS_INLINE bool sse_ordered64(uint64_t x) { return (x & SSE_E64) ? (x << 1) <= UINT64_C(0xFFE0000000000000) : !(x << 1); }

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
    EMU_ALWAYS_INLINE int sse_##name##_32(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    {                                                                                                                  \
        if (SSE_HOST_FLOAT && sse_fast(c)) {                                                                           \
            uint32_t x[4], y[4], r[4], bad = 0;                                                                        \
            unsigned i;                                                                                                \
            memcpy(x, a, 4 * lanes);                                                                                   \
            memcpy(y, b, 4 * lanes);                                                                                   \
            for (i = 0; i < lanes; i++) {                                                                              \
                r[i] = sse_b32(sse_f32(x[i]) host_op sse_f32(y[i]));                                                   \
                bad |= (uint32_t)!((x[i] & SSE_E32) && (y[i] & SSE_E32) && sse_safe32(r[i]));                          \
            }                                                                                                          \
            if (EMU_UNLIKELY(bad))                                                                                     \
                for (i = bad = 0; i < lanes; i++)                                                                      \
                    bad |= !(sse_plain32(x[i]) && sse_plain32(y[i]) &&                                                 \
                             (sse_safe32(r[i]) || (!(r[i] << 1) && zero(x[i] << 1, y[i] << 1))));                      \
            if (EMU_LIKELY(!bad)) {                                                                                    \
                memcpy(d, r, 4 * lanes);                                                                               \
                return CPU_OK;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
        return sse_soft32(c, d, a, b, soft_op, lanes);                                                                 \
    }                                                                                                                  \
    EMU_ALWAYS_INLINE int sse_##name##_64(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    {                                                                                                                  \
        if (SSE_HOST_FLOAT && sse_fast(c)) {                                                                           \
            uint64_t x[2], y[2], r[2];                                                                                 \
            unsigned i, bad = 0;                                                                                       \
            memcpy(x, a, 8 * lanes);                                                                                   \
            memcpy(y, b, 8 * lanes);                                                                                   \
            for (i = 0; i < lanes; i++) {                                                                              \
                r[i] = sse_b64(sse_f64(x[i]) host_op sse_f64(y[i]));                                                   \
                bad |= !((x[i] & SSE_E64) && (y[i] & SSE_E64) && sse_safe64(r[i]));                                    \
            }                                                                                                          \
            if (EMU_UNLIKELY(bad))                                                                                     \
                for (i = bad = 0; i < lanes; i++)                                                                      \
                    bad |= !(sse_plain64(x[i]) && sse_plain64(y[i]) &&                                                 \
                             (sse_safe64(r[i]) || (!(r[i] << 1) && zero(x[i] << 1, y[i] << 1))));                      \
            if (EMU_LIKELY(!bad)) {                                                                                    \
                memcpy(d, r, 8 * lanes);                                                                               \
                return CPU_OK;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
        return sse_soft64(c, d, a, b, soft_op, lanes);                                                                 \
    }                                                                                                                  \
    VEC_FN(name##ps) { return (void)imm, sse_##name##_32(c, d, a, b, 4); }                                             \
    VEC_FN(name##pd) { return (void)imm, sse_##name##_64(c, d, a, b, 2); }                                             \
    VEC_FN(name##sd) { return (void)imm, sse_##name##_64(c, d, a, b, 1); }                                             \
    VEC_FN(name##ss) { return (void)imm, sse_##name##_ss(c, d, a, b); }
/* lane 0 alone: on a big-endian host it is not the first in memory */
#define SSE_ARITH_SS(name, host_op, soft_op, zero)                                                                     \
    EMU_ALWAYS_INLINE int sse_##name##_ss(struct cpu *c, union vec *d, const union vec *a, const union vec *b)         \
    {                                                                                                                  \
        if (SSE_HOST_FLOAT && sse_fast(c)) {                                                                           \
            uint32_t x = VD(a, 0), y = VD(b, 0), r = sse_b32(sse_f32(x) host_op sse_f32(y));                           \
            if (EMU_LIKELY((x & SSE_E32) && (y & SSE_E32) && sse_safe32(r)) ||                                         \
                (sse_plain32(x) && sse_plain32(y) && (sse_safe32(r) || (!(r << 1) && zero(x << 1, y << 1))))) {        \
                VD(d, 0) = r;                                                                                          \
                return CPU_OK;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
        return sse_soft32(c, d, a, b, soft_op, 1);                                                                     \
    }
SSE_ARITH_SS(add, +, SF_OP_ADD, SSE_ZERO_ADD)
SSE_ARITH_SS(sub, -, SF_OP_SUB, SSE_ZERO_ADD)
SSE_ARITH_SS(mul, *, SF_OP_MUL, SSE_ZERO_MUL)
SSE_ARITH_SS(div, /, SF_OP_DIV, SSE_ZERO_DIV)
SSE_ARITH(add, +, SF_OP_ADD, SSE_ZERO_ADD)
SSE_ARITH(sub, -, SF_OP_SUB, SSE_ZERO_ADD)
SSE_ARITH(mul, *, SF_OP_MUL, SSE_ZERO_MUL)
SSE_ARITH(div, /, SF_OP_DIV, SSE_ZERO_DIV)
#undef SSE_ARITH
#undef SSE_ARITH_SS
#undef SSE_ZERO_ADD
#undef SSE_ZERO_MUL
#undef SSE_ZERO_DIV

VEC_FN(sqrtps) { return (void)imm, sse_soft32(c, d, a, b, SF_OP_SQRT, 4); }
VEC_FN(sqrtss) { return (void)imm, sse_soft32(c, d, a, b, SF_OP_SQRT, 1); }
VEC_FN(sqrtpd) { return (void)imm, sse_soft64(c, d, a, b, SF_OP_SQRT, 2); }
VEC_FN(sqrtsd) { return (void)imm, sse_soft64(c, d, a, b, SF_OP_SQRT, 1); }

/* The second operand unless the first is less (greater): so for equal zeros too. */
#define SSE_MINMAX(name, rel, soft_op)                                                                                 \
    EMU_ALWAYS_INLINE int sse_##name##_32(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    {                                                                                                                  \
        unsigned i, good = 1;                                                                                          \
        for (i = 0; i < lanes; i++)                                                                                    \
            good &= sse_ordered32(VD(a, i)) & sse_ordered32(VD(b, i));                                                 \
        if (!good)                                                                                                     \
            return sse_soft32(c, d, a, b, soft_op, lanes);                                                             \
        for (i = 0; i < lanes; i++) {                                                                                  \
            uint32_t x = VD(a, i), y = VD(b, i);                                                                       \
            VD(d, i) = sse_f32(x) rel sse_f32(y) ? x : y;                                                              \
        }                                                                                                              \
        return CPU_OK;                                                                                                 \
    }                                                                                                                  \
    EMU_ALWAYS_INLINE int sse_##name##_64(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    {                                                                                                                  \
        unsigned i, good = 1;                                                                                          \
        for (i = 0; i < lanes; i++)                                                                                    \
            good &= sse_ordered64(VQ(a, i)) & sse_ordered64(VQ(b, i));                                                 \
        if (!good)                                                                                                     \
            return sse_soft64(c, d, a, b, soft_op, lanes);                                                             \
        for (i = 0; i < lanes; i++) {                                                                                  \
            uint64_t x = VQ(a, i), y = VQ(b, i);                                                                       \
            VQ(d, i) = sse_f64(x) rel sse_f64(y) ? x : y;                                                              \
        }                                                                                                              \
        return CPU_OK;                                                                                                 \
    }                                                                                                                  \
    VEC_FN(name##ps) { return (void)imm, sse_##name##_32(c, d, a, b, 4); }                                             \
    VEC_FN(name##ss) { return (void)imm, sse_##name##_32(c, d, a, b, 1); }                                             \
    VEC_FN(name##pd) { return (void)imm, sse_##name##_64(c, d, a, b, 2); }                                             \
    VEC_FN(name##sd) { return (void)imm, sse_##name##_64(c, d, a, b, 1); }
SSE_MINMAX(min, <, SF_OP_MIN)
SSE_MINMAX(max, >, SF_OP_MAX)
#undef SSE_MINMAX

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
    return subtract ? sse_sub_32(c, d, &x, &y, 4) : sse_add_32(c, d, &x, &y, 4);
}
static int sse_horizontal64(struct cpu *c, union vec *d, const union vec *a, const union vec *b, bool subtract)
{
    union vec x = *a, y = *b;
    VQ(&x, 1) = VQ(b, 0);
    VQ(&y, 0) = VQ(a, 1);
    return subtract ? sse_sub_64(c, d, &x, &y, 2) : sse_add_64(c, d, &x, &y, 2);
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

static int sse_set_order(struct cpu *c, const struct sf_env *env, enum sf_order o)
{
    static const uint8_t flags[] = { FLAG_CF, FLAG_ZF, 0, FLAG_CF | FLAG_PF | FLAG_ZF }; /* ORDER sf_order */
    int fault = env && env->flags ? sse_raise(c, env) : CPU_OK;
    if (!fault)
        cpu_set_arith_flags(c, flags[o]);
    return fault;
}
EMU_ALWAYS_INLINE int sse_comis32(struct cpu *c, uint32_t x, uint32_t y, bool quiet)
{
    struct sf_env env;
    enum sf_order o;
    if (EMU_LIKELY(sse_ordered32(x) && sse_ordered32(y)))
        return sse_set_order(c, NULL, sse_f32(x) < sse_f32(y) ? SF_LESS : sse_f32(x) == sse_f32(y) ? SF_EQUAL : SF_GREATER);
    sse_env(c, &env);
    o = sse_order(&env, &sf_f32, x, y, quiet);
    return sse_set_order(c, &env, o);
}
EMU_ALWAYS_INLINE int sse_comis64(struct cpu *c, uint64_t x, uint64_t y, bool quiet)
{
    struct sf_env env;
    enum sf_order o;
    if (EMU_LIKELY(sse_ordered64(x) && sse_ordered64(y)))
        return sse_set_order(c, NULL, sse_f64(x) < sse_f64(y) ? SF_LESS : sse_f64(x) == sse_f64(y) ? SF_EQUAL : SF_GREATER);
    sse_env(c, &env);
    o = sse_order(&env, &sf_f64, x, y, quiet);
    return sse_set_order(c, &env, o);
}
VEC_FN(ucomiss) { return (void)d, (void)imm, sse_comis32(c, VD(a, 0), VD(b, 0), true); }
VEC_FN(comiss) { return (void)d, (void)imm, sse_comis32(c, VD(a, 0), VD(b, 0), false); }
VEC_FN(ucomisd) { return (void)d, (void)imm, sse_comis64(c, VQ(a, 0), VQ(b, 0), true); }
VEC_FN(comisd) { return (void)d, (void)imm, sse_comis64(c, VQ(a, 0), VQ(b, 0), false); }

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
VEC_FN(cvtsi2sd)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = sse_b64((double)(int32_t)sext64(VD(b, 0), 32));
    return CPU_OK;
}
VEC_FN(cvtsi2sd_q)
{
    struct sf_env env;
    uint64_t v = VQ(b, 0);
    int fault;
    (void)a, (void)imm;
    if (v + (UINT64_C(1) << 53) <= UINT64_C(1) << 54 || (SSE_HOST_FLOAT && sse_fast(c))) {
        VQ(d, 0) = sse_b64((double)(int64_t)v);
        return CPU_OK;
    }
    sse_env(c, &env);
    v = sse_int_to_float(&env, &sf_f64, v);
    fault = sse_raise(c, &env);
    if (!fault)
        VQ(d, 0) = v;
    return fault;
}
VEC_FN(cvtdq2pd)
{
    int32_t lo = (int32_t)sext64(VD(b, 0), 32), hi = (int32_t)sext64(VD(b, 1), 32);
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = sse_b64((double)lo);
    VQ(d, 1) = sse_b64((double)hi);
    return CPU_OK;
}

/* Floating to integer; low `lanes` elements to r. The fast way: truncation of a value in range, exact or with PE already known. */
EMU_ALWAYS_INLINE int sse_float_to_int(struct cpu *c, uint64_t *r, const struct sf_format *f, const uint64_t *v, unsigned lanes, unsigned bits, bool truncate)
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
static int sse_sd2si(struct cpu *c, union vec *d, uint64_t v, unsigned bits, bool truncate)
{
    uint64_t r;
    int fault;
    uint64_t magnitude = v & ~(UINT64_C(1) << 63), limit = bits == 32 ? UINT64_C(0x41E0000000000000) : UINT64_C(0x43E0000000000000);
    if (magnitude < limit && (magnitude >= UINT64_C(1) << 52 || !magnitude)) { /* below 2^31 or 2^63, not denormal */
        int64_t whole = (int64_t)sse_f64(v);
        if (sse_f64(v) == (double)whole || (truncate && sse_fast(c))) {
            VQ(d, 0) = (uint64_t)whole;
            return CPU_OK;
        }
    }
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
VEC_FN(cvtss2si) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 32, false); }
VEC_FN(cvtss2si_q) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 64, false); }
VEC_FN(cvttss2si) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 32, true); }
VEC_FN(cvttss2si_q) { return (void)a, (void)imm, sse_ss2si(c, d, VD(b, 0), 64, true); }

static int sse_ps2dq(struct cpu *c, union vec *d, const union vec *b, unsigned lanes, bool truncate)
{
    uint64_t v[4], r[4];
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
VEC_FN(cvtss2sd)
{
    struct sf_env env;
    uint32_t v = VD(b, 0);
    uint64_t r;
    int fault;
    (void)a, (void)imm;
    if (EMU_LIKELY(sse_plain32(v))) {
        VQ(d, 0) = sse_b64((double)sse_f32(v));
        return CPU_OK;
    }
    sse_env(c, &env);
    r = sf_convert(&env, &sf_f32, &sf_f64, v);
    fault = sse_raise(c, &env);
    if (!fault)
        VQ(d, 0) = r;
    return fault;
}
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
VEC_FN(cvtsd2ss)
{
    struct sf_env env;
    uint64_t v = VQ(b, 0);
    uint32_t r;
    int fault;
    (void)a, (void)imm;
    if (SSE_HOST_FLOAT && sse_fast(c)) {
        r = sse_b32((float)sse_f64(v));
        if (sse_plain64(v) && (sse_safe32(r) || !(v << 1))) {
            VD(d, 0) = r;
            return CPU_OK;
        }
    }
    sse_env(c, &env);
    r = (uint32_t)sf_convert(&env, &sf_f64, &sf_f32, v);
    fault = sse_raise(c, &env);
    if (!fault)
        VD(d, 0) = r;
    return fault;
}
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
VEC_FN(sse_mov128)
{
    (void)c, (void)a, (void)imm;
    memmove(d, b, 16);
    return CPU_OK;
}
VEC_FN(sse_mov64)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN(sse_mov64_zero)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    VQ(d, 1) = 0;
    return CPU_OK;
}
VEC_FN(sse_mov32)
{
    (void)c, (void)a, (void)imm;
    VD(d, 0) = VD(b, 0);
    return CPU_OK;
}
VEC_FN(sse_mov32_zero)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VD(b, 0);
    VQ(d, 1) = 0;
    return CPU_OK;
}
VEC_FN(movhlps) /* and the store of MOVHPx: the high half down */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 1);
    return CPU_OK;
}
VEC_FN(movlhps) /* and the load of MOVHPx */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 1) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN(movddup)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 1) = VQ(d, 0) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN(movsldup)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&vr, 1) = VD(&vb, 0); VD(&vr, 2) = VD(&vr, 3) = VD(&vb, 2); })
VEC_FN(movshdup)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&vr, 1) = VD(&vb, 1); VD(&vr, 2) = VD(&vr, 3) = VD(&vb, 3); })
VEC_FN(unpcklps)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&va, 0); VD(&vr, 1) = VD(&vb, 0); VD(&vr, 2) = VD(&va, 1); VD(&vr, 3) = VD(&vb, 1); })
VEC_FN(unpckhps)
VEC_BODY_N(16, { VD(&vr, 0) = VD(&va, 2); VD(&vr, 1) = VD(&vb, 2); VD(&vr, 2) = VD(&va, 3); VD(&vr, 3) = VD(&vb, 3); })
VEC_FN(unpcklpd)
VEC_BODY_N(16, { VQ(&vr, 0) = VQ(&va, 0); VQ(&vr, 1) = VQ(&vb, 0); })
VEC_FN(unpckhpd)
VEC_BODY_N(16, { VQ(&vr, 0) = VQ(&va, 1); VQ(&vr, 1) = VQ(&vb, 1); })
VEC_FN(shufps)
VEC_BODY_N(16, {
    VD(&vr, 0) = VD(&va, imm & 3);
    VD(&vr, 1) = VD(&va, imm >> 2 & 3);
    VD(&vr, 2) = VD(&vb, imm >> 4 & 3);
    VD(&vr, 3) = VD(&vb, imm >> 6 & 3);
})
VEC_FN(shufpd)
VEC_BODY_N(16, { VQ(&vr, 0) = VQ(&va, imm & 1); VQ(&vr, 1) = VQ(&vb, imm >> 1 & 1); })
VEC_FN(movmskps)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VD(b, 0) >> 31 | VD(b, 1) >> 31 << 1 | VD(b, 2) >> 31 << 2 | VD(b, 3) >> 31 << 3;
    return CPU_OK;
}
VEC_FN(movmskpd)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0) >> 63 | VQ(b, 1) >> 63 << 1;
    return CPU_OK;
}
#define SSE_LOGIC(name, expr)                                                                                          \
    VEC_FN(name) VEC_LANES_N(uint64_t, uint64_t, 16, expr)
SSE_LOGIC(andps, x & y)
SSE_LOGIC(andnps, ~x & y)
SSE_LOGIC(orps, x | y)
SSE_LOGIC(xorps, x ^ y)
#undef SSE_LOGIC

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
#define SSE_R(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, 0, needs, attr, 0, fn)
#define SSE_I(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, OPND_Ib, needs, attr, 0, fn)
#define SSE_F(op, pfx, name, o1, o2, needs, attr, fn) ROW_VEC(ENC0F(op) | pfx, name, OPND_##o1, OPND_##o2, 0, needs, attr, FLAGS_ARITH, fn)
/* ps, pd, ss, sd forms of one opcode */
#define SSE_FOUR(op, name, fn)                                                                                         \
    SSE_R(op, PFX_NP, name "ps", Vx, Wx, CPU_SSE, SSE_S, fn##ps), SSE_R(op, PFX_66, name "pd", Vx, Wx, CPU_SSE2, SSE_S, fn##pd), \
    SSE_R(op, PFX_F3, name "ss", Vx, Wd, CPU_SSE, SSE_S, fn##ss), SSE_R(op, PFX_F2, name "sd", Vx, Wq, CPU_SSE2, SSE_S, fn##sd)

static const struct insn_row sse_rows[] = {
    SSE_R(0x10, PFX_NP, "movups", Vx, Wx, CPU_SSE, SSE_U, sse_mov128),
    SSE_R(0x10, PFX_66, "movupd", Vx, Wx, CPU_SSE2, SSE_U, sse_mov128),
    SSE_R(0x10, PFX_F3 | MOD_REG, "movss", Vx, Ux, CPU_SSE, SSE_S, sse_mov32),
    SSE_R(0x10, PFX_F3 | MOD_MEM, "movss", Vx, Wd, CPU_SSE, SSE_S, sse_mov32_zero),
    SSE_R(0x10, PFX_F2 | MOD_REG, "movsd", Vx, Ux, CPU_SSE2, SSE_S, sse_mov64),
    SSE_R(0x10, PFX_F2 | MOD_MEM, "movsd", Vx, Wq, CPU_SSE2, SSE_S, sse_mov64_zero),
    SSE_R(0x11, PFX_NP, "movups", Wx, Vx, CPU_SSE, SSE_WU, sse_mov128),
    SSE_R(0x11, PFX_66, "movupd", Wx, Vx, CPU_SSE2, SSE_WU, sse_mov128),
    SSE_R(0x11, PFX_F3, "movss", Wd, Vx, CPU_SSE, SSE_W, sse_mov32),
    SSE_R(0x11, PFX_F2, "movsd", Wq, Vx, CPU_SSE2, SSE_W, sse_mov64),
    SSE_R(0x12, PFX_NP | MOD_REG, "movhlps", Vx, Ux, CPU_SSE, SSE_S, movhlps),
    SSE_R(0x12, PFX_NP | MOD_MEM, "movlps", Vx, Wq, CPU_SSE, SSE_S, sse_mov64),
    SSE_R(0x12, PFX_66 | MOD_MEM, "movlpd", Vx, Wq, CPU_SSE2, SSE_S, sse_mov64),
    SSE_R(0x12, PFX_F2, "movddup", Vx, Wq, CPU_SSE3, SSE_S, movddup),
    SSE_R(0x12, PFX_F3, "movsldup", Vx, Wx, CPU_SSE3, SSE_S, movsldup),
    SSE_R(0x13, PFX_NP | MOD_MEM, "movlps", Wq, Vx, CPU_SSE, SSE_W, sse_mov64),
    SSE_R(0x13, PFX_66 | MOD_MEM, "movlpd", Wq, Vx, CPU_SSE2, SSE_W, sse_mov64),
    SSE_R(0x14, PFX_NP, "unpcklps", Vx, Wx, CPU_SSE, SSE_S, unpcklps),
    SSE_R(0x14, PFX_66, "unpcklpd", Vx, Wx, CPU_SSE2, SSE_S, unpcklpd),
    SSE_R(0x15, PFX_NP, "unpckhps", Vx, Wx, CPU_SSE, SSE_S, unpckhps),
    SSE_R(0x15, PFX_66, "unpckhpd", Vx, Wx, CPU_SSE2, SSE_S, unpckhpd),
    SSE_R(0x16, PFX_NP | MOD_REG, "movlhps", Vx, Ux, CPU_SSE, SSE_S, movlhps),
    SSE_R(0x16, PFX_NP | MOD_MEM, "movhps", Vx, Wq, CPU_SSE, SSE_S, movlhps),
    SSE_R(0x16, PFX_66 | MOD_MEM, "movhpd", Vx, Wq, CPU_SSE2, SSE_S, movlhps),
    SSE_R(0x16, PFX_F3, "movshdup", Vx, Wx, CPU_SSE3, SSE_S, movshdup),
    SSE_R(0x17, PFX_NP | MOD_MEM, "movhps", Wq, Vx, CPU_SSE, SSE_W, movhlps),
    SSE_R(0x17, PFX_66 | MOD_MEM, "movhpd", Wq, Vx, CPU_SSE2, SSE_W, movhlps),
    SSE_R(0x28, PFX_NP, "movaps", Vx, Wx, CPU_SSE, SSE_S, sse_mov128),
    SSE_R(0x28, PFX_66, "movapd", Vx, Wx, CPU_SSE2, SSE_S, sse_mov128),
    SSE_R(0x29, PFX_NP, "movaps", Wx, Vx, CPU_SSE, SSE_W, sse_mov128),
    SSE_R(0x29, PFX_66, "movapd", Wx, Vx, CPU_SSE2, SSE_W, sse_mov128),
    SSE_R(0x2B, PFX_NP | MOD_MEM, "movntps", Wx, Vx, CPU_SSE, SSE_W, sse_mov128),
    SSE_R(0x2B, PFX_66 | MOD_MEM, "movntpd", Wx, Vx, CPU_SSE2, SSE_W, sse_mov128),
    SSE_R(0xC3, PFX_NP | MOD_MEM | W0, "movnti", Md, Gd, CPU_SSE2, ROW_WRITES_MEM, sse_mov64),
    SSE_R(0xC3, PFX_NP | MOD_MEM | W1, "movnti", Mq, Gq, CPU_SSE2, ROW_WRITES_MEM, sse_mov64),

    SSE_R(0x2A, PFX_NP, "cvtpi2ps", Vx, Qq, CPU_SSE, ROW_SSE | ROW_MMX, cvtpi2ps),
    SSE_R(0x2A, PFX_66 | MOD_REG, "cvtpi2pd", Vx, Nq, CPU_SSE2, ROW_SSE | ROW_MMX, cvtdq2pd),
    SSE_R(0x2A, PFX_66 | MOD_MEM, "cvtpi2pd", Vx, Wq, CPU_SSE2, ROW_SSE, cvtdq2pd), /* memory form: no MMX state touched */
    SSE_R(0x2A, PFX_F3 | W0, "cvtsi2ss", Vx, Ed, CPU_SSE, SSE_S, cvtsi2ss),
    SSE_R(0x2A, PFX_F3 | W1, "cvtsi2ss", Vx, Eq, CPU_SSE, SSE_S, cvtsi2ss_q),
    SSE_R(0x2A, PFX_F2 | W0, "cvtsi2sd", Vx, Ed, CPU_SSE2, SSE_S, cvtsi2sd),
    SSE_R(0x2A, PFX_F2 | W1, "cvtsi2sd", Vx, Eq, CPU_SSE2, SSE_S, cvtsi2sd_q),
    SSE_R(0x2C, PFX_NP, "cvttps2pi", Pq, Wq, CPU_SSE, ROW_SSE | ROW_MMX, cvttps2pi),
    SSE_R(0x2C, PFX_66, "cvttpd2pi", Pq, Wx, CPU_SSE2, ROW_SSE | ROW_MMX, cvttpd2pi),
    SSE_R(0x2C, PFX_F3 | W0, "cvttss2si", Gd, Wd, CPU_SSE, SSE_S, cvttss2si),
    SSE_R(0x2C, PFX_F3 | W1, "cvttss2si", Gq, Wd, CPU_SSE, SSE_S, cvttss2si_q),
    SSE_R(0x2C, PFX_F2 | W0, "cvttsd2si", Gd, Wq, CPU_SSE2, SSE_S, cvttsd2si),
    SSE_R(0x2C, PFX_F2 | W1, "cvttsd2si", Gq, Wq, CPU_SSE2, SSE_S, cvttsd2si_q),
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

    SSE_R(0x50, PFX_NP | MOD_REG, "movmskps", Gd, Ux, CPU_SSE, SSE_S, movmskps),
    SSE_R(0x50, PFX_66 | MOD_REG, "movmskpd", Gd, Ux, CPU_SSE2, SSE_S, movmskpd),
    SSE_FOUR(0x51, "sqrt", sqrt),
    SSE_R(0x52, PFX_NP, "rsqrtps", Vx, Wx, CPU_SSE, SSE_S, rsqrtps),
    SSE_R(0x52, PFX_F3, "rsqrtss", Vx, Wd, CPU_SSE, SSE_S, rsqrtss),
    SSE_R(0x53, PFX_NP, "rcpps", Vx, Wx, CPU_SSE, SSE_S, rcpps),
    SSE_R(0x53, PFX_F3, "rcpss", Vx, Wd, CPU_SSE, SSE_S, rcpss),
    SSE_R(0x54, PFX_NP, "andps", Vx, Wx, CPU_SSE, SSE_S, andps),
    SSE_R(0x54, PFX_66, "andpd", Vx, Wx, CPU_SSE2, SSE_S, andps),
    SSE_R(0x55, PFX_NP, "andnps", Vx, Wx, CPU_SSE, SSE_S, andnps),
    SSE_R(0x55, PFX_66, "andnpd", Vx, Wx, CPU_SSE2, SSE_S, andnps),
    SSE_R(0x56, PFX_NP, "orps", Vx, Wx, CPU_SSE, SSE_S, orps),
    SSE_R(0x56, PFX_66, "orpd", Vx, Wx, CPU_SSE2, SSE_S, orps),
    SSE_R(0x57, PFX_NP, "xorps", Vx, Wx, CPU_SSE, SSE_S, xorps),
    SSE_R(0x57, PFX_66, "xorpd", Vx, Wx, CPU_SSE2, SSE_S, xorps),
    SSE_FOUR(0x58, "add", add),
    SSE_FOUR(0x59, "mul", mul),
    SSE_R(0x5A, PFX_NP, "cvtps2pd", Vx, Wq, CPU_SSE2, SSE_S, cvtps2pd),
    SSE_R(0x5A, PFX_66, "cvtpd2ps", Vx, Wx, CPU_SSE2, SSE_S, cvtpd2ps),
    SSE_R(0x5A, PFX_F3, "cvtss2sd", Vx, Wd, CPU_SSE2, SSE_S, cvtss2sd),
    SSE_R(0x5A, PFX_F2, "cvtsd2ss", Vx, Wq, CPU_SSE2, SSE_S, cvtsd2ss),
    SSE_R(0x5B, PFX_NP, "cvtdq2ps", Vx, Wx, CPU_SSE2, SSE_S, cvtdq2ps),
    SSE_R(0x5B, PFX_66, "cvtps2dq", Vx, Wx, CPU_SSE2, SSE_S, cvtps2dq),
    SSE_R(0x5B, PFX_F3, "cvttps2dq", Vx, Wx, CPU_SSE2, SSE_S, cvttps2dq),
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
    SSE_R(0xE6, PFX_F3, "cvtdq2pd", Vx, Wq, CPU_SSE2, SSE_S, cvtdq2pd),
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
#undef SSE_I
#undef SSE_F
#undef SSE_FOUR
#undef SSE_E32
#undef SSE_E64
#undef SSE_HOST_FLOAT

/* ======================================== src/cpu/flags.c ======================================== */

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

/* ======================================== src/cpu/interp.c ======================================== */

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

static unsigned interp_size(const struct insn *i, unsigned n)
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

static bool interp_is_memory(const struct insn *i, unsigned n)
{
    switch (i->row->opnd[n]) {
    case OPND_Eb: case OPND_Ew: case OPND_Ev: case OPND_Ed: case OPND_Ey: case OPND_Eq: case OPND_M: case OPND_Mb: case OPND_Mw: case OPND_Md:
    case OPND_Mq: case OPND_Mv: case OPND_My: case OPND_Ob: case OPND_Ov: return i->memory;
    default: return false;
    }
}

/* Register of operand n; high: AH, CH, DH or BH. */
static unsigned interp_reg(const struct insn *i, unsigned n, bool *high)
{
    unsigned r;
    *high = false;
    switch (i->row->opnd[n]) {
    case OPND_AL: case OPND_AX: case OPND_eAX: return REG_RAX;
    case OPND_CL: return REG_RCX;
    case OPND_DX: return REG_RDX;
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
    if (i->opcode == 0x90 && i->rm == REG_RAX)
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
    cpu_put(c, REG_RAX, (uint64_t)sext64(c->gpr[REG_RAX], 4u * i->opsize), i->opsize);
    return CPU_OK;
}
EMU_PRIV int interp_cwd(struct cpu *c, const struct insn *i) /* CWD CDQ CQO */
{
    cpu_put(c, REG_RDX, sext64(c->gpr[REG_RAX], 8u * i->opsize) < 0 ? UINT64_MAX : 0, i->opsize);
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
    cpu_put8(c, REG_RAX, true, (uint8_t)((cpu_arith_flags(c) & 0xFF) | 2));
    return CPU_OK;
}
EMU_PRIV int interp_sahf(struct cpu *c, const struct insn *i)
{
    (void)i;
    cpu_set_arith_flags(c, (cpu_arith_flags(c) & FLAG_OF) | (cpu_get8(c, REG_RAX, true) & (FLAGS_ARITH & 0xFF)));
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
/* SF and PF after a multiplication are of the low half on Intel's processors, ZF and AF are 0. Bit 8 keeps ZF clear. */
enum { INTERP_NOT_ZERO = 0x100 };
static void interp_flags_mul(struct cpu *c, unsigned size, uint64_t low, bool over)
{
    interp_flags(c, FLAGK_RESULT, size, low, over ? FLAG_CF | FLAG_OF : 0u);
    c->flag_result |= INTERP_NOT_ZERO;
}
EMU_PRIV int interp_mul(struct cpu *c, const struct insn *i) /* MUL, IMUL r/m */
{
    unsigned size = interp_size(i, 0), bits = 8 * size;
    bool is_signed = i->row->op == OP_IMUL1, over;
    uint64_t s, lo, hi, a = c->gpr[REG_RAX];
    if (interp_load(c, i, 0, &s))
        return CPU_FAULT;
    if (size == 8) {
        lo = is_signed ? muls64(a, s, &hi) : mul64(a, s, &hi);
        over = is_signed ? hi != sar64(lo, 63) : hi != 0;
        c->gpr[REG_RAX] = lo;
        c->gpr[REG_RDX] = hi;
    } else {
        uint64_t p = is_signed ? (uint64_t)sext64(a, bits) * (uint64_t)sext64(s, bits) : (a & interp_mask(size)) * s;
        lo = p & interp_mask(size);
        hi = (p >> bits) & interp_mask(size);
        over = is_signed ? p != (uint64_t)sext64(lo, bits) : hi != 0;
        if (size == 1) {
            cpu_put16(c, REG_RAX, (uint16_t)p);
        } else {
            cpu_put(c, REG_RAX, lo, size);
            cpu_put(c, REG_RDX, hi, size);
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
    lo = c->gpr[REG_RAX] & interp_mask(size);
    hi = size == 1 ? cpu_get8(c, REG_RAX, true) : c->gpr[REG_RDX] & interp_mask(size);
    if (!interp_divide(size, i->row->op == OP_IDIV, hi, lo, s, &q, &r))
        return cpu_raise(c, EXC_DE);
    if (size == 1) {
        cpu_put16(c, REG_RAX, (uint16_t)((q & 0xFF) | (r & 0xFF) << 8));
    } else {
        cpu_put(c, REG_RAX, q, size);
        cpu_put(c, REG_RDX, r, size);
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
        c->flag_result |= INTERP_NOT_ZERO;
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
    uint64_t d, s, a = c->gpr[REG_RAX] & interp_mask(size);
    if (interp_load(c, i, 1, &s) || interp_load_rmw(c, i, 0, &d))
        return CPU_FAULT;
    if (a == d) {
        if (interp_store(c, i, 0, s))
            return CPU_FAULT;
    } else {
        if (interp_is_memory(i, 0) && interp_store(c, i, 0, d)) /* the write cycle always happens */
            return CPU_FAULT;
        if (size == 1)
            cpu_put8(c, REG_RAX, false, (uint8_t)d);
        else
            cpu_put(c, REG_RAX, d, size);
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
    equal = lo == (c->gpr[REG_RAX] & mask) && hi == (c->gpr[REG_RDX] & mask);
    if (equal) {
        stn_le(bytes, c->gpr[REG_RBX], half);
        stn_le(bytes + half, c->gpr[REG_RCX], half);
    }
    if (cpu_store_bytes(c, i->seg, address, bytes, 2 * half))
        return CPU_FAULT;
    if (!equal) {
        cpu_put(c, REG_RAX, lo, half);
        cpu_put(c, REG_RDX, hi, half);
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
    uint64_t n = cpu_get(c, REG_RCX, i->addrsize);
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
        cpu_put(c, REG_RCX, n, i->addrsize);
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
    uint64_t t, sp = c->gpr[REG_RSP];
    if (cpu_pop(c, &t, i->opsize))
        return CPU_FAULT;
    if (interp_go(c, t, i->opsize)) {
        c->gpr[REG_RSP] = sp;
        return CPU_FAULT;
    }
    if (i->row->opnd[0] == OPND_Iw)
        cpu_put(c, REG_RSP, c->gpr[REG_RSP] + i->imm, c->code_size == 8 ? 8 : c->seg[SEG_SS].attr & SEG_DB ? 4 : 2);
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
    uint64_t v, sp = c->gpr[REG_RSP];
    if (cpu_pop(c, &v, i->opsize))
        return CPU_FAULT;
    if (!interp_is_memory(i, 0)) {
        cpu_put(c, i->rm, v, i->opsize);
        return CPU_OK;
    }
    /* The address of POP [esp + n] uses ESP after the increment; a fault must find it unchanged. */
    if (cpu_store(c, i->seg, insn_address(c, i), i->opsize, v)) {
        c->gpr[REG_RSP] = sp;
        return CPU_FAULT;
    }
    return CPU_OK;
}
EMU_PRIV int interp_leave(struct cpu *c, const struct insn *i)
{
    uint64_t v, sp = c->gpr[REG_RSP];
    cpu_put(c, REG_RSP, c->gpr[REG_RBP], interp_stack_size(c));
    if (cpu_pop(c, &v, i->opsize)) {
        c->gpr[REG_RSP] = sp;
        return CPU_FAULT;
    }
    cpu_put(c, REG_RBP, v, i->opsize);
    return CPU_OK;
}

/* ======================================== src/cpu/string.c ======================================== */

/* cpu/string.c - MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS with their repeat prefixes.
 *
 * Models     SDM vol. 2B REP, MOVS ..., OUTS.
 * Contract   string_run() is the plain-C body of all of them (rows in table.c).
 * Theory     Elements are moved one by one through cpu_load()/cpu_store(), but stretches that lie in plain pages on both sides go by
 *            host pointer. A long repetition is cut: the function returns with next_rip at the instruction itself, registers telling how
 *            far it is, so that interrupts get in (SDM 2B REP: "the repeat can be interrupted").
 * Invariants 1. RCX, RSI and RDI are exact after every element that was done; a fault leaves them at the element that failed.
 *            2. Under TF one element is done a time.
 */

enum { STRING_SLICE_BYTES = 1 << 16, STRING_PAGE = 4096 };

struct string_state {
    unsigned size, asize;
    uint64_t amask;
    int64_t step;
    unsigned seg;
};

static void string_advance(struct cpu *c, const struct string_state *s, unsigned reg, uint64_t elements)
{
    uint64_t v = c->gpr[reg] + (uint64_t)s->step * elements;
    cpu_put(c, reg, v, s->asize);
}

static uint64_t string_offset(const struct cpu *c, const struct string_state *s, unsigned reg)
{
    return c->gpr[reg] & s->amask;
}

/* Host pointer to up to *n elements at seg:reg that lie in one plain page, or NULL; *n is cut. With a negative step the pointer is to the
 * first (highest) element. */
static uint8_t *string_span(struct cpu *c, const struct string_state *s, unsigned seg, unsigned reg, unsigned access, uint64_t *n)
{
    uint64_t offset = string_offset(c, s, reg), va, room, low;
    uint8_t *p;
    if (cpu_linear(c, seg, offset, s->size, access, &va))
        return NULL;
    if (s->step > 0) {
        room = (STRING_PAGE - (va & (STRING_PAGE - 1))) / s->size;
        low = (s->amask - offset) / s->size; /* stay clear of the wrap */
        if (room > low)
            room = low;
        if (*n > room)
            *n = room;
        if (*n < 2 || cpu_linear(c, seg, offset, (unsigned)(*n * s->size), access, &va))
            return NULL;
        return tlb_host(c, va, (unsigned)(*n * s->size), access);
    }
    if ((va & (STRING_PAGE - 1)) + s->size > STRING_PAGE)
        return NULL;
    room = (va & (STRING_PAGE - 1)) / s->size + 1;
    low = offset / s->size;
    if (room > low)
        room = low;
    if (*n > room)
        *n = room;
    if (*n < 2)
        return NULL;
    low = (*n - 1) * s->size;
    if (cpu_linear(c, seg, offset - low, (unsigned)(*n * s->size), access, &va))
        return NULL;
    p = tlb_host(c, va, (unsigned)(*n * s->size), access);
    return p ? p + low : NULL;
}

static void string_copy(uint8_t *to, const uint8_t *from, uint64_t n, unsigned size, bool forward)
{
    uintptr_t t = (uintptr_t)to, f = (uintptr_t)from;
    uint64_t bytes = n * size;
    if (forward) {
        if (t - f >= bytes || t == f) {
            memmove(to, from, (size_t)bytes);
            return;
        }
        while (n--) { /* the source grows out of what was just written */
            stn_le(to, ldn_le(from, size), size);
            to += size;
            from += size;
        }
        return;
    }
    if (f - t >= bytes || t == f) {
        memmove(to - (bytes - size), from - (bytes - size), (size_t)bytes);
        return;
    }
    for (;;) {
        stn_le(to, ldn_le(from, size), size);
        if (--n == 0)
            return;
        to -= size;
        from -= size;
    }
}

static void string_fill(uint8_t *p, uint64_t v, uint64_t n, unsigned size, bool forward)
{
    uint64_t k;
    if (!forward)
        p -= (n - 1) * size;
    if (size == 1) {
        memset(p, (int)(v & 0xFF), (size_t)n);
        return;
    }
    if ((v == 0 && size) || (v == UINT64_MAX && size == 8)) {
        memset(p, v ? 0xFF : 0, (size_t)(n * size));
        return;
    }
    for (k = 0; k < n; k++)
        stn_le(p + k * size, v, size);
}

static void string_compare_flags(struct cpu *c, unsigned size, uint64_t d, uint64_t s)
{
    c->flag_kind = FLAGK_SUB | (size == 8 ? 3u : size >> 1);
    c->flag_result = (uint64_t)sext64(d - s, 8 * size);
    c->flag_source = s;
}

/* One element, the slow way. */
static int string_element(struct cpu *c, const struct insn *i, const struct string_state *s)
{
    unsigned size = s->size;
    uint64_t v = 0, w = 0, si = string_offset(c, s, REG_RSI), di = string_offset(c, s, REG_RDI);
    uint16_t port = (uint16_t)c->gpr[REG_RDX];
    switch (i->opcode & 0xFE) {
    case 0xA4: /* MOVS */
        if (cpu_load(c, s->seg, si, size, &v) || cpu_store(c, SEG_ES, di, size, v))
            return CPU_FAULT;
        string_advance(c, s, REG_RSI, 1);
        string_advance(c, s, REG_RDI, 1);
        return CPU_OK;
    case 0xA6: /* CMPS */
        if (cpu_load(c, s->seg, si, size, &v) || cpu_load(c, SEG_ES, di, size, &w))
            return CPU_FAULT;
        string_compare_flags(c, size, v, w);
        string_advance(c, s, REG_RSI, 1);
        string_advance(c, s, REG_RDI, 1);
        return CPU_OK;
    case 0xAA: /* STOS */
        if (cpu_store(c, SEG_ES, di, size, c->gpr[REG_RAX]))
            return CPU_FAULT;
        string_advance(c, s, REG_RDI, 1);
        return CPU_OK;
    case 0xAC: /* LODS */
        if (cpu_load(c, s->seg, si, size, &v))
            return CPU_FAULT;
        if (size == 1)
            cpu_put8(c, REG_RAX, false, (uint8_t)v);
        else
            cpu_put(c, REG_RAX, v, size);
        string_advance(c, s, REG_RSI, 1);
        return CPU_OK;
    case 0xAE: /* SCAS */
        if (cpu_load(c, SEG_ES, di, size, &w))
            return CPU_FAULT;
        string_compare_flags(c, size, cpu_get(c, REG_RAX, size), w);
        string_advance(c, s, REG_RDI, 1);
        return CPU_OK;
    case 0x6C: /* INS: nothing is read from the device if the store would fault */
        if (cpu_check_store(c, SEG_ES, di, size))
            return CPU_FAULT;
        if (cpu_store(c, SEG_ES, di, size, port_read(c->emu, port, size)))
            return CPU_FAULT;
        string_advance(c, s, REG_RDI, 1);
        return CPU_OK;
    default: /* OUTS */
        if (cpu_load(c, s->seg, si, size, &v))
            return CPU_FAULT;
        string_advance(c, s, REG_RSI, 1);
        port_write(c->emu, port, v, size);
        return CPU_OK;
    }
}

/* As many elements as one stretch holds, by host pointer; 0: none. *stop: a compare ended the repetition. */
static uint64_t string_stretch(struct cpu *c, const struct insn *i, const struct string_state *s, uint64_t n, bool *stop)
{
    bool forward = s->step > 0;
    uint8_t *from, *to;
    uint64_t k, v, w = 0;
    unsigned size = s->size;
    switch (i->opcode & 0xFE) {
    case 0xA4:
        from = string_span(c, s, s->seg, REG_RSI, ACCESS_READ, &n);
        to = from ? string_span(c, s, SEG_ES, REG_RDI, ACCESS_WRITE, &n) : NULL;
        if (!to)
            return 0;
        if (!forward) /* n may have been cut after the first pointer: both point to the highest element */
            string_copy(to, from, n, size, false);
        else
            string_copy(to, from, n, size, true);
        string_advance(c, s, REG_RSI, n);
        string_advance(c, s, REG_RDI, n);
        return n;
    case 0xAA:
        to = string_span(c, s, SEG_ES, REG_RDI, ACCESS_WRITE, &n);
        if (!to)
            return 0;
        string_fill(to, cpu_get(c, REG_RAX, size), n, size, forward);
        string_advance(c, s, REG_RDI, n);
        return n;
    case 0xAE:
        to = string_span(c, s, SEG_ES, REG_RDI, ACCESS_READ, &n);
        if (!to)
            return 0;
        v = cpu_get(c, REG_RAX, size);
        for (k = 0; k < n && !*stop; k++, to += s->step) {
            w = ldn_le(to, size);
            *stop = (v == w) == ((i->prefixes & INSN_REPNE) != 0);
        }
        string_compare_flags(c, size, v, w);
        string_advance(c, s, REG_RDI, k);
        return k;
    case 0xA6:
        from = string_span(c, s, s->seg, REG_RSI, ACCESS_READ, &n);
        to = from ? string_span(c, s, SEG_ES, REG_RDI, ACCESS_READ, &n) : NULL;
        if (!to)
            return 0;
        v = 0;
        for (k = 0; k < n && !*stop; k++, to += s->step, from += s->step) {
            v = ldn_le(from, size);
            w = ldn_le(to, size);
            *stop = (v == w) == ((i->prefixes & INSN_REPNE) != 0);
        }
        string_compare_flags(c, size, v, w);
        string_advance(c, s, REG_RSI, k);
        string_advance(c, s, REG_RDI, k);
        return k;
    default: return 0;
    }
}

EMU_PRIV int string_run(struct cpu *c, const struct insn *i)
{
    struct string_state s;
    uint64_t n, done = 0, limit;
    bool compares = (i->opcode & 0xFE) == 0xA6 || (i->opcode & 0xFE) == 0xAE, io = (i->opcode & 0xFC) == 0x6C, stop = false;
    s.size = i->opcode & 1 ? i->opsize : 1;
    if (io && s.size == 8)
        s.size = 4;
    s.asize = i->addrsize;
    s.amask = s.asize == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * s.asize)) - 1;
    s.step = c->eflags & FLAG_DF ? -(int64_t)s.size : (int64_t)s.size;
    s.seg = i->seg;
    if (!(i->prefixes & (INSN_REP | INSN_REPNE)))
        return io && cpu_check_io(c, (uint16_t)c->gpr[REG_RDX], s.size) ? CPU_FAULT : string_element(c, i, &s);
    n = c->gpr[REG_RCX] & s.amask;
    if (n == 0)
        return CPU_OK;
    if (io && cpu_check_io(c, (uint16_t)c->gpr[REG_RDX], s.size))
        return CPU_FAULT;
    limit = c->eflags & FLAG_TF || c->mode_key & KEY_DEBUG ? 1 : STRING_SLICE_BYTES / s.size;
    while (n && done < limit && !stop) {
        uint64_t k = limit > 1 && n > 1 && !io ? string_stretch(c, i, &s, EMU_MIN(n, limit - done), &stop) : 0;
        if (k == 0) {
            if (string_element(c, i, &s))
                return CPU_FAULT;
            if (compares)
                stop = (c->flag_result == 0) == ((i->prefixes & INSN_REPNE) != 0);
            k = 1;
            if (io && c->budget < 0) /* an interrupt waits */
                limit = 0;
        }
        n -= k;
        done += k;
        cpu_put(c, REG_RCX, n, s.asize);
    }
    if (n && !stop)
        c->next_rip = c->rip; /* the rest when interrupts have had their turn */
    return CPU_OK;
}

/* ======================================== src/cpu/table.c ======================================== */

/* cpu/table.c - the integer instructions: one row per form.
 *
 * Models     Opcode maps of SDM vol. 2D appendix A, without system, x87 and vector instructions (system.c, x87.c, mmx.c, sse*.c).
 * Contract   cpu_rows_int() for decode.c. Columns: encoding, mnemonic, operands, feature, attributes, flags read, flags written, operation
 *            for the trace builder, plain-C function (interp.c).
 * Invariants 1. "written" lists a flag only if the instruction surely writes it: a shift by CL may leave all (so it also reads all).
 */

#define ROW_INT(enc, name, o1, o2, o3, attr, fr, fw, op, fn)                                                           \
    { enc, name, { o1, o2, o3, 0 }, CPU_ALWAYS, HOW_INT, attr, fr, fw, op, fn, NULL, NULL }
#define ROW_INTF(enc, name, o1, o2, o3, needs, attr, fr, fw, op, fn)                                                   \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_INT, attr, fr, fw, op, fn, NULL, NULL }
#define TABLE_ALL FLAGS_ARITH
#define TABLE_NO OPND_NONE
#define TABLE_ALU(base, name, op, fr, attr)                                                                            \
    ROW_INT(ENC(base), name, OPND_Eb, OPND_Gb, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),                         \
    ROW_INT(ENC(base + 1), name, OPND_Ev, OPND_Gv, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),                     \
    ROW_INT(ENC(base + 2), name, OPND_Gb, OPND_Eb, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                        \
    ROW_INT(ENC(base + 3), name, OPND_Gv, OPND_Ev, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                        \
    ROW_INT(ENC(base + 4), name, OPND_AL, OPND_Ib, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                        \
    ROW_INT(ENC(base + 5), name, OPND_eAX, OPND_Iz, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                       \
    ROW_INT(ENC(0x80) | SLASH(base >> 3), name, OPND_Eb, OPND_Ib, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),      \
    ROW_INT(ENC(0x81) | SLASH(base >> 3), name, OPND_Ev, OPND_Iz, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),      \
    ROW_INT(ENC(0x82) | SLASH(base >> 3) | NOT64, name, OPND_Eb, OPND_Ib, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu), \
    ROW_INT(ENC(0x83) | SLASH(base >> 3), name, OPND_Ev, OPND_Ibs, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu)
#define TABLE_SHIFT(n, name, op, fr, fw, op2)                                                                          \
    ROW_INT(ENC(0xC0) | SLASH(n), name, OPND_Eb, OPND_Ib, TABLE_NO, 0, fr, fw, op, interp_shift),                      \
    ROW_INT(ENC(0xC1) | SLASH(n), name, OPND_Ev, OPND_Ib, TABLE_NO, 0, fr, fw, op, interp_shift),                      \
    ROW_INT(ENC(0xD0) | SLASH(n), name, OPND_Eb, OPND_1, TABLE_NO, 0, fr, fw, op, interp_shift),                       \
    ROW_INT(ENC(0xD1) | SLASH(n), name, OPND_Ev, OPND_1, TABLE_NO, 0, fr, fw, op, interp_shift),                       \
    ROW_INT(ENC(0xD2) | SLASH(n), name, OPND_Eb, OPND_CL, TABLE_NO, 0, TABLE_ALL, 0, op, interp_shift),                \
    ROW_INT(ENC(0xD3) | SLASH(n), name, OPND_Ev, OPND_CL, TABLE_NO, 0, TABLE_ALL, 0, op, interp_shift)
#define TABLE_CC(n, cc, reads)                                                                                         \
    ROW_INT(ENC(0x70 + n), "j" cc, OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64, reads, 0, OP_JCC, interp_jcc),            \
    ROW_INT(ENC0F(0x80 + n), "j" cc, OPND_Jz, TABLE_NO, TABLE_NO, ROW_FORCE64, reads, 0, OP_JCC, interp_jcc),          \
    ROW_INT(ENC0F(0x90 + n), "set" cc, OPND_Eb, TABLE_NO, TABLE_NO, 0, reads, 0, OP_SETCC, interp_setcc),              \
    ROW_INTF(ENC0F(0x40 + n), "cmov" cc, OPND_Gv, OPND_Ev, TABLE_NO, CPU_CMOV, 0, reads, 0, OP_CMOV, interp_cmov)
#define TABLE_STRING(op, name, o1, o2, fr, fw)                                                                         \
    ROW_INT(ENC(op), name, o1##b, o2##b, TABLE_NO, ROW_REP, fr, fw, OP_STRING, string_run),                            \
    ROW_INT(ENC(op + 1), name, o1##v, o2##v, TABLE_NO, ROW_REP, fr, fw, OP_STRING, string_run)

static const struct insn_row table_rows[] = {
    TABLE_ALU(0x00, "add", OP_ADD, 0, ROW_LOCK),
    TABLE_ALU(0x08, "or", OP_OR, 0, ROW_LOCK),
    TABLE_ALU(0x10, "adc", OP_ADC, FLAG_CF, ROW_LOCK),
    TABLE_ALU(0x18, "sbb", OP_SBB, FLAG_CF, ROW_LOCK),
    TABLE_ALU(0x20, "and", OP_AND, 0, ROW_LOCK),
    TABLE_ALU(0x28, "sub", OP_SUB, 0, ROW_LOCK),
    TABLE_ALU(0x30, "xor", OP_XOR, 0, ROW_LOCK),
    TABLE_ALU(0x38, "cmp", OP_CMP, 0, 0),

    ROW_INT(ENC(0x40) | OPREG | NOT64, "inc", OPND_Zv, TABLE_NO, TABLE_NO, 0, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_INC, interp_unary),
    ROW_INT(ENC(0x48) | OPREG | NOT64, "dec", OPND_Zv, TABLE_NO, TABLE_NO, 0, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_DEC, interp_unary),
    ROW_INT(ENC(0x50) | OPREG, "push", OPND_Zq, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),
    ROW_INT(ENC(0x58) | OPREG, "pop", OPND_Zq, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_POP, interp_pop),
    ROW_INT(ENC(0x63) | MODE64, "movsxd", OPND_Gv, OPND_Ed, TABLE_NO, 0, 0, 0, OP_MOVSX, interp_movsx),
    ROW_INT(ENC(0x68), "push", OPND_Iz, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),
    ROW_INT(ENC(0x69), "imul", OPND_Gv, OPND_Ev, OPND_Iz, 0, 0, TABLE_ALL, OP_IMUL, interp_imul),
    ROW_INT(ENC(0x6A), "push", OPND_Ibs, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),
    ROW_INT(ENC(0x6B), "imul", OPND_Gv, OPND_Ev, OPND_Ibs, 0, 0, TABLE_ALL, OP_IMUL, interp_imul),
    TABLE_STRING(0x6C, "ins", OPND_Y, OPND_X, 0, 0),
    TABLE_STRING(0x6E, "outs", OPND_X, OPND_X, 0, 0),

    TABLE_CC(0x0, "o", FLAG_OF), TABLE_CC(0x1, "no", FLAG_OF), TABLE_CC(0x2, "b", FLAG_CF), TABLE_CC(0x3, "ae", FLAG_CF),
    TABLE_CC(0x4, "e", FLAG_ZF), TABLE_CC(0x5, "ne", FLAG_ZF), TABLE_CC(0x6, "be", FLAG_CF | FLAG_ZF), TABLE_CC(0x7, "a", FLAG_CF | FLAG_ZF),
    TABLE_CC(0x8, "s", FLAG_SF), TABLE_CC(0x9, "ns", FLAG_SF), TABLE_CC(0xA, "p", FLAG_PF), TABLE_CC(0xB, "np", FLAG_PF),
    TABLE_CC(0xC, "l", FLAG_SF | FLAG_OF), TABLE_CC(0xD, "ge", FLAG_SF | FLAG_OF),
    TABLE_CC(0xE, "le", FLAG_SF | FLAG_OF | FLAG_ZF), TABLE_CC(0xF, "g", FLAG_SF | FLAG_OF | FLAG_ZF),

    ROW_INT(ENC(0x84), "test", OPND_Eb, OPND_Gb, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0x85), "test", OPND_Ev, OPND_Gv, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0x86), "xchg", OPND_Eb, OPND_Gb, TABLE_NO, ROW_LOCK, 0, 0, OP_XCHG, interp_xchg),
    ROW_INT(ENC(0x87), "xchg", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, 0, 0, OP_XCHG, interp_xchg),
    ROW_INT(ENC(0x88), "mov", OPND_Eb, OPND_Gb, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x89), "mov", OPND_Ev, OPND_Gv, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x8A), "mov", OPND_Gb, OPND_Eb, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x8B), "mov", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x8D) | MOD_MEM, "lea", OPND_Gv, OPND_M, TABLE_NO, 0, 0, 0, OP_LEA, interp_lea),
    ROW_INT(ENC(0x8F) | SLASH(0), "pop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_POP, interp_pop),
    ROW_INT(ENC(0x90) | PFX_F3, "pause", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC(0x90) | OPREG, "xchg", OPND_Zv, OPND_eAX, TABLE_NO, 0, 0, 0, OP_XCHG, interp_xchg),
    ROW_INT(ENC(0x98), "cbw", TABLE_NO, TABLE_NO, TABLE_NO, 0, 0, 0, OP_CBW, interp_cbw),
    ROW_INT(ENC(0x99), "cwd", TABLE_NO, TABLE_NO, TABLE_NO, 0, 0, 0, OP_CWD, interp_cwd),
    ROW_INT(ENC(0x9E) | NOT64, "sahf", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, FLAG_OF, TABLE_ALL & ~FLAG_OF, OP_FLAGS, interp_sahf),
    ROW_INT(ENC(0x9F) | NOT64, "lahf", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL, 0, OP_FLAGS, interp_lahf),
    ROW_INTF(ENC(0x9E) | MODE64, "sahf", TABLE_NO, TABLE_NO, TABLE_NO, CPU_LAHF_LM, ROW_NO_RIP, FLAG_OF, TABLE_ALL & ~FLAG_OF, OP_FLAGS, interp_sahf),
    ROW_INTF(ENC(0x9F) | MODE64, "lahf", TABLE_NO, TABLE_NO, TABLE_NO, CPU_LAHF_LM, ROW_NO_RIP, TABLE_ALL, 0, OP_FLAGS, interp_lahf),
    ROW_INT(ENC(0xA0), "mov", OPND_AL, OPND_Ob, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xA1), "mov", OPND_eAX, OPND_Ov, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xA2), "mov", OPND_Ob, OPND_AL, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xA3), "mov", OPND_Ov, OPND_eAX, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    TABLE_STRING(0xA4, "movs", OPND_Y, OPND_X, 0, 0),
    TABLE_STRING(0xA6, "cmps", OPND_X, OPND_Y, TABLE_ALL, 0),
    ROW_INT(ENC(0xA8), "test", OPND_AL, OPND_Ib, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xA9), "test", OPND_eAX, OPND_Iz, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    TABLE_STRING(0xAA, "stos", OPND_Y, OPND_Y, 0, 0),
    TABLE_STRING(0xAC, "lods", OPND_X, OPND_X, 0, 0),
    TABLE_STRING(0xAE, "scas", OPND_Y, OPND_Y, TABLE_ALL, 0),
    ROW_INT(ENC(0xB0) | OPREG, "mov", OPND_Zb, OPND_Ib, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xB8) | OPREG, "mov", OPND_Zv, OPND_Iv, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    TABLE_SHIFT(0, "rol", OP_ROL, TABLE_ALL, 0, 0), TABLE_SHIFT(1, "ror", OP_ROR, TABLE_ALL, 0, 0),
    TABLE_SHIFT(2, "rcl", OP_RCL, TABLE_ALL, 0, 0), TABLE_SHIFT(3, "rcr", OP_RCR, TABLE_ALL, 0, 0),
    TABLE_SHIFT(4, "shl", OP_SHL, 0, TABLE_ALL, 0), TABLE_SHIFT(5, "shr", OP_SHR, 0, TABLE_ALL, 0),
    TABLE_SHIFT(6, "shl", OP_SHL, 0, TABLE_ALL, 0), TABLE_SHIFT(7, "sar", OP_SAR, 0, TABLE_ALL, 0),
    ROW_INT(ENC(0xC2), "ret", OPND_Iw, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_RET, interp_ret),
    ROW_INT(ENC(0xC3), "ret", TABLE_NO, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_RET, interp_ret),
    ROW_INT(ENC(0xC6) | SLASH(0), "mov", OPND_Eb, OPND_Ib, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xC7) | SLASH(0), "mov", OPND_Ev, OPND_Iz, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xC9), "leave", TABLE_NO, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_LEAVE, interp_leave),
    ROW_INT(ENC(0xE0), "loopne", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, FLAG_ZF, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE1), "loope", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, FLAG_ZF, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE2), "loop", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE3), "jcxz", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE8), "call", OPND_Jz, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_CALL, interp_call),
    ROW_INT(ENC(0xE9), "jmp", OPND_Jz, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_JMP, interp_jmp),
    ROW_INT(ENC(0xEB), "jmp", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_JMP, interp_jmp),
    ROW_INT(ENC(0xF5), "cmc", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL, FLAG_CF, OP_FLAGS, interp_carry),
    ROW_INT(ENC(0xF6) | SLASH(0), "test", OPND_Eb, OPND_Ib, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF6) | SLASH(1), "test", OPND_Eb, OPND_Ib, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF6) | SLASH(2), "not", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, 0, 0, OP_NOT, interp_unary),
    ROW_INT(ENC(0xF6) | SLASH(3), "neg", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_NEG, interp_unary),
    ROW_INT(ENC(0xF6) | SLASH(4), "mul", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_MUL, interp_mul),
    ROW_INT(ENC(0xF6) | SLASH(5), "imul", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_IMUL1, interp_mul),
    ROW_INT(ENC(0xF6) | SLASH(6), "div", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, 0, OP_DIV, interp_div),
    ROW_INT(ENC(0xF6) | SLASH(7), "idiv", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, 0, OP_IDIV, interp_div),
    ROW_INT(ENC(0xF7) | SLASH(0), "test", OPND_Ev, OPND_Iz, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF7) | SLASH(1), "test", OPND_Ev, OPND_Iz, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF7) | SLASH(2), "not", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, 0, 0, OP_NOT, interp_unary),
    ROW_INT(ENC(0xF7) | SLASH(3), "neg", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_NEG, interp_unary),
    ROW_INT(ENC(0xF7) | SLASH(4), "mul", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_MUL, interp_mul),
    ROW_INT(ENC(0xF7) | SLASH(5), "imul", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_IMUL1, interp_mul),
    ROW_INT(ENC(0xF7) | SLASH(6), "div", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, 0, OP_DIV, interp_div),
    ROW_INT(ENC(0xF7) | SLASH(7), "idiv", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, 0, OP_IDIV, interp_div),
    ROW_INT(ENC(0xF8), "clc", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_FLAGS, interp_carry),
    ROW_INT(ENC(0xF9), "stc", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_FLAGS, interp_carry),
    ROW_INT(ENC(0xFC), "cld", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_FLAGS, interp_direction),
    ROW_INT(ENC(0xFD), "std", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_FLAGS, interp_direction),
    ROW_INT(ENC(0xFE) | SLASH(0), "inc", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_INC, interp_unary),
    ROW_INT(ENC(0xFE) | SLASH(1), "dec", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_DEC, interp_unary),
    ROW_INT(ENC(0xFF) | SLASH(0), "inc", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_INC, interp_unary),
    ROW_INT(ENC(0xFF) | SLASH(1), "dec", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_DEC, interp_unary),
    ROW_INT(ENC(0xFF) | SLASH(2), "call", OPND_Ev, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_CALL_RM, interp_call_rm),
    ROW_INT(ENC(0xFF) | SLASH(4), "jmp", OPND_Ev, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_JMP_RM, interp_jmp_rm),
    ROW_INT(ENC(0xFF) | SLASH(6), "push", OPND_Ev, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),

    ROW_INT(ENC0F(0x19), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1A), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1B), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1C), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1D), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1E), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1F), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0xA3), "bt", OPND_Ev, OPND_Gv, TABLE_NO, 0, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BT, interp_bit_test),
    ROW_INT(ENC0F(0xA4), "shld", OPND_Ev, OPND_Gv, OPND_Ib, 0, TABLE_ALL, 0, OP_SHLD, interp_shift_double),
    ROW_INT(ENC0F(0xA5), "shld", OPND_Ev, OPND_Gv, OPND_CL, 0, TABLE_ALL, 0, OP_SHLD, interp_shift_double),
    ROW_INT(ENC0F(0xAB), "bts", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTS, interp_bit_test),
    ROW_INT(ENC0F(0xAC), "shrd", OPND_Ev, OPND_Gv, OPND_Ib, 0, TABLE_ALL, 0, OP_SHRD, interp_shift_double),
    ROW_INT(ENC0F(0xAD), "shrd", OPND_Ev, OPND_Gv, OPND_CL, 0, TABLE_ALL, 0, OP_SHRD, interp_shift_double),
    ROW_INT(ENC0F(0xAF), "imul", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, TABLE_ALL, OP_IMUL, interp_imul),
    ROW_INT(ENC0F(0xB0), "cmpxchg", OPND_Eb, OPND_Gb, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_CMPXCHG, interp_cmpxchg),
    ROW_INT(ENC0F(0xB1), "cmpxchg", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_CMPXCHG, interp_cmpxchg),
    ROW_INT(ENC0F(0xB3), "btr", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTR, interp_bit_test),
    ROW_INT(ENC0F(0xB6), "movzx", OPND_Gv, OPND_Eb, TABLE_NO, 0, 0, 0, OP_MOVZX, interp_mov),
    ROW_INT(ENC0F(0xB7), "movzx", OPND_Gv, OPND_Ew, TABLE_NO, 0, 0, 0, OP_MOVZX, interp_mov),
    ROW_INTF(ENC0F(0xB8) | PFX_F3, "popcnt", OPND_Gv, OPND_Ev, TABLE_NO, CPU_POPCNT, 0, 0, TABLE_ALL, OP_POPCNT, interp_bit_scan),
    ROW_INT(ENC0F(0xBA) | SLASH(4), "bt", OPND_Ev, OPND_Ib, TABLE_NO, 0, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BT, interp_bit_test),
    ROW_INT(ENC0F(0xBA) | SLASH(5), "bts", OPND_Ev, OPND_Ib, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTS, interp_bit_test),
    ROW_INT(ENC0F(0xBA) | SLASH(6), "btr", OPND_Ev, OPND_Ib, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTR, interp_bit_test),
    ROW_INT(ENC0F(0xBA) | SLASH(7), "btc", OPND_Ev, OPND_Ib, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTC, interp_bit_test),
    ROW_INT(ENC0F(0xBB), "btc", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTC, interp_bit_test),
    ROW_INTF(ENC0F(0xBC) | PFX_F3, "tzcnt", OPND_Gv, OPND_Ev, TABLE_NO, CPU_BMI1, 0, 0, TABLE_ALL, OP_TZCNT, interp_bit_scan),
    ROW_INT(ENC0F(0xBC), "bsf", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, TABLE_ALL, OP_BSF, interp_bit_scan),
    ROW_INTF(ENC0F(0xBD) | PFX_F3, "lzcnt", OPND_Gv, OPND_Ev, TABLE_NO, CPU_ABM, 0, 0, TABLE_ALL, OP_LZCNT, interp_bit_scan),
    ROW_INT(ENC0F(0xBD), "bsr", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, TABLE_ALL, OP_BSR, interp_bit_scan),
    ROW_INT(ENC0F(0xBE), "movsx", OPND_Gv, OPND_Eb, TABLE_NO, 0, 0, 0, OP_MOVSX, interp_movsx),
    ROW_INT(ENC0F(0xBF), "movsx", OPND_Gv, OPND_Ew, TABLE_NO, 0, 0, 0, OP_MOVSX, interp_movsx),
    ROW_INT(ENC0F(0xC0), "xadd", OPND_Eb, OPND_Gb, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_XADD, interp_xadd),
    ROW_INT(ENC0F(0xC1), "xadd", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_XADD, interp_xadd),
    ROW_INTF(ENC0F(0xC3) | PFX_NP | MOD_MEM, "movnti", OPND_My, OPND_Gy, TABLE_NO, CPU_SSE2, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INTF(ENC0F(0xC7) | SLASH(1) | MOD_MEM | W1, "cmpxchg16b", OPND_M, TABLE_NO, TABLE_NO, CPU_CX16, ROW_LOCK, TABLE_ALL, 0, OP_CMPXCHG8B, interp_cmpxchg8b),
    ROW_INTF(ENC0F(0xC7) | SLASH(1) | MOD_MEM, "cmpxchg8b", OPND_M, TABLE_NO, TABLE_NO, CPU_CX8, ROW_LOCK, TABLE_ALL, 0, OP_CMPXCHG8B, interp_cmpxchg8b),
    ROW_INT(ENC0F(0xC8) | OPREG, "bswap", OPND_Zv, TABLE_NO, TABLE_NO, 0, 0, 0, OP_BSWAP, interp_bswap),
    ROW_INTF(ENC0F38(0xF0) | PFX_NP | MOD_MEM, "movbe", OPND_Gv, OPND_Mv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF0) | PFX_66 | MOD_MEM, "movbe", OPND_Gv, OPND_Mv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF1) | PFX_NP | MOD_MEM, "movbe", OPND_Mv, OPND_Gv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF1) | PFX_66 | MOD_MEM, "movbe", OPND_Mv, OPND_Gv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF6) | PFX_66, "adcx", OPND_Gy, OPND_Ey, TABLE_NO, CPU_ADX, 0, TABLE_ALL, TABLE_ALL, OP_ADCX, interp_adx),
    ROW_INTF(ENC0F38(0xF6) | PFX_F3, "adox", OPND_Gy, OPND_Ey, TABLE_NO, CPU_ADX, 0, TABLE_ALL, TABLE_ALL, OP_ADOX, interp_adx),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }
};

EMU_PRIV const struct insn_row *cpu_rows_int(void) { return table_rows; }

#undef ROW_INT
#undef ROW_INTF
#undef TABLE_ALL
#undef TABLE_NO
#undef TABLE_ALU
#undef TABLE_SHIFT
#undef TABLE_CC
#undef TABLE_STRING

/* ======================================== src/cpu/decode.c ======================================== */

/* cpu/decode.c - from bytes to struct insn.
 *
 * Models     Instruction format: SDM vol. 2A chapter 2; opcode map: 2D appendix A.
 * Contract   cpu_decode() is asked by the trace builder and the debugger; it changes no state of the CPU. Rows come from table.c, system.c and
 *            the floating-point files. insn_address(), insn_load_rm(), insn_store_rm() serve plain-C instructions.
 * Theory     Rows are indexed by map and opcode when the machine is created. An opcode's candidates are tried in the order of the tables; the
 *            first whose prefixes, mode, ModRM and CPUID feature fit is taken, so that TZCNT falls back to BSF where there is no BMI1.
 * Invariants 1. No byte beyond `size` is read; a length over 15 is #GP(0) before anything else is said about the instruction.
 *            2. All rows of an opcode agree about whether a ModRM byte follows (checked when the index is built).
 */

struct decode_index {
    const struct insn_row **rows;
    uint16_t start[4][257]; /* rows[start[m][op] .. start[m][op + 1]) */
    uint8_t has_modrm[4][256];
};

enum { DECODE_MAX_LENGTH = 15 /* SDM 2A §2.3.11 */ };

static bool decode_operand_has_modrm(unsigned kind)
{
    switch (kind) {
    case OPND_NONE: case OPND_Ib: case OPND_Ibs: case OPND_Iw: case OPND_Iz: case OPND_Iv: case OPND_Jb: case OPND_Jz: case OPND_Ap:
    case OPND_Ob: case OPND_Ov: case OPND_Zb: case OPND_Zv: case OPND_Zq: case OPND_AL: case OPND_AX: case OPND_eAX: case OPND_CL:
    case OPND_DX: case OPND_1: case OPND_ES: case OPND_CS: case OPND_SS: case OPND_DS: case OPND_FS: case OPND_GS: case OPND_Xb:
    case OPND_Xv: case OPND_Yb: case OPND_Yv: case OPND_ST0: case OPND_XMM0: case OPND_Hx: case OPND_Lx: return false;
    default: return true;
    }
}

static bool decode_row_has_modrm(const struct insn_row *r)
{
    unsigned i;
    if (r->enc & (SLASH_MASK | MOD_MASK | RM_MASK | HAS_MODRM))
        return true;
    if (ENC_MAP(r->enc) == 0 && (r->enc & 0xF8) == 0xD8)
        return true;
    for (i = 0; i < 4; i++)
        if (decode_operand_has_modrm(r->opnd[i]))
            return true;
    return false;
}

EMU_PRIV int cpu_decode_create(struct emu *e)
{
    const struct insn_row *tables[7];
    struct decode_index *x;
    unsigned t, m, op, n;
    size_t count = 0;
    const struct insn_row *r;
    if (e->decode)
        return 0;
    tables[0] = cpu_rows_int();
    tables[1] = cpu_rows_system();
    tables[2] = cpu_rows_x87();
    tables[3] = cpu_rows_mmx();
    tables[4] = cpu_rows_sse();
    tables[5] = cpu_rows_sse4();
    tables[6] = cpu_rows_crypto();
    for (t = 0; t < EMU_ARRAY_LEN(tables); t++)
        for (r = tables[t]; r->name; r++)
            count += r->enc & OPREG ? 8 : 1;
    x = emu_alloc(e, sizeof *x);
    if (!x)
        return EMU_ENOMEM;
    x->rows = emu_alloc(e, count * sizeof *x->rows);
    if (!x->rows) {
        emu_free(e, x);
        return EMU_ENOMEM;
    }
    n = 0;
    for (m = 0; m < 4; m++) {
        for (op = 0; op < 256; op++) {
            x->start[m][op] = (uint16_t)n;
            for (t = 0; t < EMU_ARRAY_LEN(tables); t++)
                for (r = tables[t]; r->name; r++) {
                    unsigned base = r->enc & 0xFF;
                    if (ENC_MAP(r->enc) != m || !(r->enc & OPREG ? op >= base && op < base + 8 : op == base))
                        continue;
                    if (decode_row_has_modrm(r))
                        x->has_modrm[m][op] = 1;
                    x->rows[n++] = r;
                }
        }
        x->start[m][256] = (uint16_t)n;
    }
    e->decode = x;
    return 0;
}

EMU_PRIV void cpu_decode_destroy(struct emu *e)
{
    if (e->decode) {
        emu_free(e, e->decode->rows);
        emu_free(e, e->decode);
        e->decode = NULL;
    }
}

struct decode_cursor {
    const uint8_t *bytes;
    unsigned at, size;
    bool short_of; /* ran out of bytes */
    bool too_long;
};

static uint8_t decode_byte(struct decode_cursor *d)
{
    if (d->at >= DECODE_MAX_LENGTH) {
        d->too_long = true;
        return 0;
    }
    if (d->at >= d->size) {
        d->short_of = true;
        return 0;
    }
    return d->bytes[d->at++];
}

static uint64_t decode_value(struct decode_cursor *d, unsigned size)
{
    uint64_t v = 0;
    unsigned i;
    for (i = 0; i < size; i++)
        v |= (uint64_t)decode_byte(d) << (8 * i);
    return v;
}

/* 16-bit addressing forms: SDM 2A table 2-1. */
static void decode_modrm16(struct decode_cursor *d, struct insn *o, unsigned mod, unsigned rm)
{
    static const uint8_t bases[8] = { REG_RBX, REG_RBX, REG_RBP, REG_RBP, REG_RSI, REG_RDI, REG_RBP, REG_RBX };
    static const uint8_t indexes[8] = { REG_RSI, REG_RDI, REG_RSI, REG_RDI, REG_ZERO, REG_ZERO, REG_ZERO, REG_ZERO };
    o->base = bases[rm];
    o->index = indexes[rm];
    if (mod == 0 && rm == 6) {
        o->base = REG_ZERO;
        o->disp = (int64_t)decode_value(d, 2);
    } else if (mod == 1) {
        o->disp = sext64(decode_value(d, 1), 8);
    } else if (mod == 2) {
        o->disp = sext64(decode_value(d, 2), 16);
    }
}

static void decode_modrm32(struct decode_cursor *d, struct insn *o, unsigned mod, unsigned rm, bool long_mode)
{
    if (rm == 4) { /* SIB: table 2-3 */
        unsigned sib = decode_byte(d);
        unsigned index = ((sib >> 3) & 7) | (o->rex & 2 ? 8u : 0u), base = (sib & 7) | (o->rex & 1 ? 8u : 0u);
        o->scale = (uint8_t)(sib >> 6);
        o->index = (uint8_t)(index == 4 ? REG_ZERO : index);
        if (index == 4)
            o->scale = 0;
        if ((sib & 7) == 5 && mod == 0) {
            o->base = REG_ZERO;
            o->disp = sext64(decode_value(d, 4), 32);
        } else {
            o->base = (uint8_t)base;
        }
    } else if (rm == 5 && mod == 0) {
        o->base = REG_ZERO;
        o->rip_relative = long_mode;
        o->disp = sext64(decode_value(d, 4), 32);
    } else {
        o->base = (uint8_t)(rm | (o->rex & 1 ? 8u : 0u));
    }
    if (mod == 1)
        o->disp = sext64(decode_value(d, 1), 8);
    else if (mod == 2)
        o->disp = sext64(decode_value(d, 4), 32);
}

static bool decode_row_fits(const struct cpu *c, const struct insn_row *r, const struct insn *o, bool long_mode)
{
    uint32_t enc = r->enc, pfx = enc & PFX_MASK;
    bool has_66 = (o->prefixes & INSN_OPSIZE) != 0, has_f3 = (o->prefixes & INSN_REP) != 0, has_f2 = (o->prefixes & INSN_REPNE) != 0;
    if ((enc & MODE_MASK) == MODE64 ? !long_mode : (enc & MODE_MASK) == NOT64 && long_mode)
        return false;
    if (pfx == PFX_NP ? has_66 || has_f3 || has_f2 : pfx == PFX_66 ? !has_66 || has_f3 || has_f2 : pfx == PFX_F3 ? !has_f3 : pfx == PFX_F2 && !has_f2)
        return false;
    if ((enc & SLASH_MASK) && ((enc & SLASH_MASK) >> 13) - 1 != ((o->modrm >> 3) & 7u))
        return false;
    if ((enc & MOD_MASK) && ((enc & MOD_MASK) == MOD_REG) != (o->modrm >= 0xC0))
        return false;
    if ((enc & RM_MASK) && ((enc & RM_MASK) >> 19) - 1 != (o->modrm & 7u))
        return false;
    if ((enc & W_MASK) && ((enc & W_MASK) == W1) != ((o->rex & 8) != 0))
        return false;
    if (((enc & VEX_MASK) != 0) != (o->vex != 0))
        return false;
    return cpu_has(c, (enum cpu_feature)r->needs);
}

static void decode_immediates(struct decode_cursor *d, struct insn *o, bool long_mode)
{
    unsigned i;
    for (i = 0; i < 4; i++) {
        unsigned size = o->opsize == 2 ? 2 : 4;
        switch (o->row->opnd[i]) {
        case OPND_Ib: {
            uint8_t v = decode_byte(d);
            if (i > 0 && o->row->opnd[i - 1] == OPND_Iw)
                o->imm2 = v; /* ENTER Iw, Ib */
            else
                o->imm = v;
            break;
        }
        case OPND_Lx: o->imm = decode_byte(d); break;
        case OPND_Ibs: case OPND_Jb: o->imm = (uint64_t)sext64(decode_byte(d), 8); break;
        case OPND_Iw: o->imm = decode_value(d, 2); break;
        case OPND_Iz: o->imm = (uint64_t)sext64(decode_value(d, size), size * 8); break;
        case OPND_Iv: o->imm = decode_value(d, o->opsize); break;
        case OPND_Jz: /* 66 is ignored by near branches in 64-bit mode: opsize is 8 there */
            o->imm = (uint64_t)sext64(decode_value(d, size), size * 8);
            break;
        case OPND_Ap:
            o->imm = decode_value(d, size);
            o->imm2 = (uint16_t)decode_value(d, 2);
            break;
        case OPND_Ob: case OPND_Ov:
            o->disp = (int64_t)decode_value(d, o->addrsize);
            o->base = o->index = REG_ZERO;
            o->memory = true;
            break;
        default: break;
        }
    }
    (void)long_mode;
}

/* A VEX prefix (C4, C5); the map number, or 0 if it is malformed. SDM 2A §2.3.5. */
static unsigned decode_vex(struct decode_cursor *d, struct insn *o, bool two_bytes)
{
    unsigned b = decode_byte(d), map = 1, last;
    bool bad = o->rex || (o->prefixes & (INSN_LOCK | INSN_REP | INSN_REPNE | INSN_OPSIZE));
    static const uint8_t prefixes[4] = { 0, INSN_OPSIZE, INSN_REP, INSN_REPNE };
    o->rex = (uint8_t)(0x40 | (b & 0x80 ? 0 : 4));
    last = b;
    if (!two_bytes) {
        o->rex = (uint8_t)(o->rex | (b & 0x40 ? 0 : 2) | (b & 0x20 ? 0 : 1));
        map = (b & 31) <= 3 ? b & 31 : 0;
        last = decode_byte(d);
        if (last & 0x80)
            o->rex |= 8;
    }
    o->vvvv = (uint8_t)(~(last >> 3) & 15);
    o->vex = last & 4 ? 32 : 16;
    o->prefixes |= prefixes[last & 3];
    return bad ? 0 : map;
}

EMU_PRIV int cpu_decode(const struct cpu *c, uint32_t mode_key, const uint8_t *bytes, unsigned size, struct insn *o)
{
    const struct decode_index *x = c->emu->decode;
    struct decode_cursor d;
    bool long_mode = (mode_key & KEY_CS_SIZE) == KEY_CS64, seg_given = false, size_prefix;
    unsigned op, map = 0, mod = 0, rm = 0, i, first, end;
    const struct insn_row *row = NULL;
    memset(o, 0, sizeof *o);
    d.bytes = bytes;
    d.at = 0;
    d.size = size;
    d.short_of = d.too_long = false;
    o->base = o->index = REG_ZERO;
    for (;;) { /* legacy prefixes in any order, REX last: SDM 2A §2.1.1, §2.2.1 */
        op = decode_byte(&d);
        if (d.short_of || d.too_long)
            goto incomplete;
        switch (op) {
        case 0xF0: o->prefixes |= INSN_LOCK; break;
        case 0xF2: o->prefixes = (uint8_t)((o->prefixes & ~INSN_REP) | INSN_REPNE); break; /* the last one counts */
        case 0xF3: o->prefixes = (uint8_t)((o->prefixes & ~INSN_REPNE) | INSN_REP); break;
        case 0x66: o->prefixes |= INSN_OPSIZE; break;
        case 0x67: o->prefixes |= INSN_ADDRSIZE; break;
        case 0x26: case 0x2E: case 0x36: case 0x3E: /* ES, CS, SS, DS: ignored in 64-bit mode */
            if (!long_mode) {
                o->seg = (uint8_t)((op >> 3) & 3);
                seg_given = true;
            }
            break;
        case 0x64: case 0x65:
            o->seg = (uint8_t)(op == 0x64 ? SEG_FS : SEG_GS);
            seg_given = true;
            break;
        default:
            if (long_mode && (op & 0xF0) == 0x40) {
                o->rex = (uint8_t)op;
                continue;
            }
            goto opcode;
        }
        o->rex = 0; /* a REX that is not last is ignored */
    }
opcode:
    if (seg_given)
        o->prefixes |= INSN_SEG;
    if ((op == 0xC4 || op == 0xC5) && d.at < d.size && (long_mode || (d.bytes[d.at] & 0xC0) == 0xC0) && !(mode_key & KEY_REAL)) {
        map = decode_vex(&d, o, op == 0xC5);
        op = decode_byte(&d);
        if (map == 0)
            return d.short_of ? -1 : d.too_long ? EXC_GP : EXC_UD;
    } else if ((op == 0xC4 || op == 0xC5) && d.at >= d.size && d.at < DECODE_MAX_LENGTH) {
        return -1;
    } else if (op == 0x0F) {
        map = 1;
        op = decode_byte(&d);
        if (op == 0x38 || op == 0x3A) {
            map = op == 0x38 ? 2 : 3;
            op = decode_byte(&d);
        }
    }
    if (d.short_of || d.too_long)
        goto incomplete;
    o->opcode = (uint8_t)op;
    o->addrsize = long_mode ? (o->prefixes & INSN_ADDRSIZE ? 4 : 8)
                            : ((mode_key & KEY_CS_SIZE) == KEY_CS32) != ((o->prefixes & INSN_ADDRSIZE) != 0) ? 4 : 2;
    if (x->has_modrm[map][op]) {
        o->has_modrm = true;
        o->modrm = decode_byte(&d);
        mod = o->modrm >> 6;
        rm = o->modrm & 7;
        o->reg = (uint8_t)(((o->modrm >> 3) & 7) | (o->rex & 4 ? 8 : 0));
        o->rm = (uint8_t)(rm | (o->rex & 1 ? 8 : 0));
        o->memory = mod != 3;
        if (d.short_of || d.too_long)
            goto incomplete;
    } else {
        o->rm = o->reg = (uint8_t)((op & 7) | (o->rex & 1 ? 8 : 0));
    }
    first = x->start[map][op];
    end = x->start[map][op + 1];
    for (i = first; i < end; i++)
        if (decode_row_fits(c, x->rows[i], o, long_mode)) {
            row = x->rows[i];
            break;
        }
    if (!row) { /* the length does not matter any more, except when the bytes so far end it */
        return EXC_UD;
    }
    o->row = row;
    /* MOV to and from control and debug registers ignores mod: always registers. */
    for (i = 0; i < 2; i++)
        if (row->opnd[i] == OPND_Cd || row->opnd[i] == OPND_Dd) {
            o->memory = false;
            mod = 3;
        }
    if (o->memory) {
        if (o->addrsize == 2)
            decode_modrm16(&d, o, mod, rm);
        else
            decode_modrm32(&d, o, mod, rm, long_mode);
        if (!seg_given)
            o->seg = o->base == REG_RBP || o->base == REG_RSP ? SEG_SS : SEG_DS;
    } else if (!seg_given) {
        o->seg = SEG_DS;
    }
    /* A mandatory 66 is no operand size, but for instructions with operands of that size (MOVBE). */
    size_prefix = (o->prefixes & INSN_OPSIZE) && !(row->attr & ROW_IGNORE_66) &&
                  ((row->enc & PFX_MASK) != PFX_66 || row->opnd[0] == OPND_Gv || row->opnd[0] == OPND_Mv);
    if (long_mode)
        o->opsize = (row->attr & ROW_FORCE64) || (o->rex & 8) ? 8 : size_prefix ? 2 : row->attr & ROW_DEF64 ? 8 : 4;
    else
        o->opsize = ((mode_key & KEY_CS_SIZE) == KEY_CS32) != size_prefix ? 4 : 2;
    decode_immediates(&d, o, long_mode);
    if (d.short_of || d.too_long)
        goto incomplete;
    o->length = (uint8_t)d.at;
    memcpy(o->bytes, bytes, d.at);
    if ((o->prefixes & INSN_LOCK) && (!(row->attr & ROW_LOCK) || !o->memory))
        return EXC_UD;
    return 0;
incomplete:
    return d.too_long ? EXC_GP : -1;
}

EMU_PRIV uint64_t insn_address(struct cpu *c, const struct insn *i)
{
    uint64_t a = c->gpr[i->base] + (c->gpr[i->index] << i->scale) + (uint64_t)i->disp;
    if (i->rip_relative)
        a += c->next_rip;
    return i->addrsize == 8 ? a : i->addrsize == 4 ? (uint32_t)a : (uint16_t)a;
}

EMU_PRIV int insn_load_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t *value)
{
    if (i->memory)
        return cpu_load(c, i->seg, insn_address(c, i), size, value);
    if (size == 1 && !i->rex && i->rm >= 4 && i->rm < 8)
        *value = cpu_get8(c, i->rm & 3, true);
    else
        *value = cpu_get(c, i->rm, size);
    return CPU_OK;
}

EMU_PRIV int insn_store_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t value)
{
    if (i->memory)
        return cpu_store(c, i->seg, insn_address(c, i), size, value);
    if (size == 1)
        cpu_put8(c, !i->rex && i->rm >= 4 && i->rm < 8 ? i->rm & 3 : i->rm, !i->rex && i->rm >= 4 && i->rm < 8, (uint8_t)value);
    else
        cpu_put(c, i->rm, value, size);
    return CPU_OK;
}

/* ======================================== src/dev/pci.c ======================================== */

/* dev/pci.c - PCI bus 0: configuration access, base address registers, INTx lines, MSI and MSI-X.
 *
 * Models     PCI Local Bus Specification 3.0: configuration mechanism #1 (§3.2.2.3.2), type 0 header (§6.1, §6.2), MSI and MSI-X
 *            (§6.8); interrupt rotation as i440FX boards wire it (and QEMU's pc): line = (slot - 1 + pin) mod 4.
 * Contract   A PCI device embeds struct pci_device first and calls pci_device_init() first in its create(), then adds BARs and
 *            capabilities; pci_device_remove() in its destroy(). board.c calls pci_bus_reset() before the devices' own resets.
 *            The router (piix3.c) fills bus->intx. Messages go to apic_deliver_msi().
 * Theory     config[] is what a guest reads. A write changes the bits of wmask and clears those of w1c; after a write the BARs' regions are
 *            made to follow (pci_update_mappings). A BAR is mapped while its decode bit in the command register is set and it holds an
 *            address that can be meant: neither 0 nor the all-ones pattern with which guests ask for the size.
 * Invariants 1. bus->intx_count[n] is the number of devices that drive line n; the line's level is count != 0.
 *            2. A region of a BAR is enabled exactly while that BAR decodes (rule above).
 *            3. Bits outside wmask and w1c never change by a guest's write.
 * Missing    Bridges, other buses: reads of bus numbers above 0 give all ones, as an empty bus does. Parity, master abort bits.
 */

enum {
    PCI_COMMAND = 0x04, PCI_STATUS = 0x06, PCI_CACHE_LINE = 0x0C, PCI_HEADER_TYPE = 0x0E, PCI_BAR0 = 0x10, PCI_SUBSYSTEM = 0x2C,
    PCI_ROM_BAR = 0x30, PCI_CAP_POINTER = 0x34, PCI_INT_LINE = 0x3C, PCI_INT_PIN = 0x3D,
    PCI_COMMAND_IO = 1, PCI_COMMAND_MEMORY = 2, PCI_COMMAND_MASTER = 4, PCI_COMMAND_SERR = 0x100, PCI_COMMAND_INTX_DISABLE = 0x400,
    PCI_STATUS_INT = 8, PCI_STATUS_CAPS = 0x10,
    PCI_CAP_MSI = 5, PCI_CAP_MSIX = 0x11,
    PCI_MSI_CTL = 2, PCI_MSI_ADDR = 4, PCI_MSI_ADDR_HIGH = 8, PCI_MSI_DATA = 12, PCI_MSI_SIZE = 14, PCI_MSI_ENABLE = 1, PCI_MSI_64BIT = 0x80,
    PCI_MSIX_CTL = 2, PCI_MSIX_TABLE = 4, PCI_MSIX_PBA = 8, PCI_MSIX_SIZE = 12, PCI_MSIX_ENABLE = 0x8000, PCI_MSIX_MASK_ALL = 0x4000,
    PCI_MSIX_ENTRY = 16, PCI_MSIX_ENTRY_MASKED = 1,
    PCI_INTX_LEVEL = 1, PCI_INTX_COUNTED = 2 /* bits of intx_level: what the device drives; whether bus->intx_count has it */
};
/* QEMU's default subsystem ids, which drivers' tables and installed systems know. */
#define PCI_SUBVENDOR_QEMU 0x1AF4
#define PCI_SUBSYSTEM_QEMU 0x1100

struct pci_msix {
    unsigned vectors;
    uint64_t pba_offset; /* of the pending bits in the BAR */
    uint8_t *table;      /* vectors * 16 bytes, little-endian as in the BAR */
    uint8_t *pending;    /* a bit a vector, whole quadwords */
};

/* ---- the chipset's common struct ---- */

EMU_PRIV struct chipset *chipset_get(struct emu *e)
{
    if (!e->chipset)
        e->chipset = emu_alloc(e, sizeof(struct chipset));
    return e->chipset;
}

EMU_PRIV void chipset_free(struct emu *e)
{
    emu_free(e, e->chipset);
    e->chipset = NULL;
}

/* ---- INTx ---- */

static void pci_update_intx(struct pci_device *d)
{
    unsigned pin = d->config[PCI_INT_PIN], line;
    bool on = (d->intx_level & PCI_INTX_LEVEL) && !(ld16le(d->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
    bool counted = (d->intx_level & PCI_INTX_COUNTED) != 0;
    if (!pin || pin > 4 || !d->bus || on == counted)
        return;
    line = ((unsigned)(d->devfn >> 3) + 3 + (pin - 1)) & 3; /* slot - 1 + pin, pins from 0 */
    d->intx_level ^= PCI_INTX_COUNTED;
    if (on) {
        if (d->bus->intx_count[line]++ == 0)
            irq_set(&d->bus->intx[line], 1);
    } else if (--d->bus->intx_count[line] == 0) {
        irq_set(&d->bus->intx[line], 0);
    }
}

EMU_PRIV void pci_set_intx(struct pci_device *d, int level)
{
    d->intx_level = (uint8_t)((d->intx_level & ~PCI_INTX_LEVEL) | (level ? PCI_INTX_LEVEL : 0));
    pci_update_intx(d);
}

/* ---- base address registers ---- */

static unsigned pci_bar_offset(unsigned bar) { return bar == 6 ? PCI_ROM_BAR : PCI_BAR0 + 4 * bar; }

/* Where the BAR is decoded, or false: nowhere now. */
static bool pci_bar_address(const struct pci_device *d, unsigned i, uint64_t *address)
{
    const struct pci_bar *b = &d->bars[i];
    const uint8_t *reg = d->config + pci_bar_offset(i);
    unsigned command = ld16le(d->config + PCI_COMMAND);
    uint64_t a, limit = b->io ? 0xFFFF : b->mem64 ? UINT64_C(0xFFFFFFFFFFFF) : UINT64_C(0xFFFFFFFE);
    if (!(command & (b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) || (i == 6 && !(reg[0] & 1)))
        return false;
    a = ld32le(reg);
    if (b->mem64)
        a |= (uint64_t)ld32le(reg + 4) << 32;
    a &= ~(b->size - 1);
    *address = a;
    return a != 0 && a <= limit && b->size - 1 <= limit - a;
}

static void pci_update_mappings(struct pci_device *d)
{
    struct emu *e = d->dev.emu;
    unsigned i;
    for (i = 0; i < EMU_ARRAY_LEN(d->bars); i++) {
        struct pci_bar *b = &d->bars[i];
        uint64_t address = 0;
        bool on;
        if (!b->present)
            continue;
        on = pci_bar_address(d, i, &address);
        region_set(e, b->io ? &e->ports : &e->memory, &b->region, on ? address : b->region.base, on);
    }
}

static void pci_add_bar(struct pci_device *d, unsigned bar, uint64_t size)
{
    struct emu *e = d->dev.emu;
    struct pci_bar *b = &d->bars[bar];
    uint8_t *reg = d->config + pci_bar_offset(bar), *mask = d->wmask + pci_bar_offset(bar);
    b->size = size;
    b->present = true;
    if (bar == 6) {
        st32le(mask, (uint32_t)(~(size - 1) | 1));
    } else {
        st32le(reg, b->io ? 1u : (b->mem64 ? 4u : 0u) | (b->prefetch ? 8u : 0u));
        st32le(mask, (uint32_t)~(size - 1) & (b->io ? 0xFFFFFFFCu : 0xFFFFFFF0u));
        if (b->mem64)
            st32le(mask + 4, (uint32_t)(~(size - 1) >> 32));
    }
    region_add(e, b->io ? &e->ports : &e->memory, &b->region, 0, b->io ? 0 : MAP_PRIO_BAR);
    region_set(e, b->io ? &e->ports : &e->memory, &b->region, 0, false);
}

/* size: a power of two, at least 4 (ports) or 16 (memory). */
EMU_PRIV void pci_add_bar_io(struct pci_device *d, unsigned bar, const char *name, uint64_t size, bool port_space, const struct region_ops *ops, void *opaque)
{
    struct pci_bar *b = &d->bars[bar];
    b->io = port_space;
    region_init_io(&b->region, name, ops, opaque, size);
    pci_add_bar(d, bar, size);
}

EMU_PRIV void pci_add_bar_ram(struct pci_device *d, unsigned bar, struct ram_block *block, bool prefetch)
{
    struct pci_bar *b = &d->bars[bar];
    uint64_t size = 4096;
    while (size < block->size_bytes)
        size *= 2;
    b->prefetch = prefetch;
    region_init_ram(&b->region, block->name, block, 0, block->size_bytes);
    if (block->rom)
        b->region.access = REGION_READS;
    pci_add_bar(d, bar, size);
}

/* ---- configuration space ---- */

EMU_PRIV uint32_t pci_config_read(struct pci_device *d, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    unsigned i;
    for (i = 0; i < size && offset + i < sizeof d->config; i++) {
        uint8_t byte = d->config[offset + i];
        if (offset + i == PCI_STATUS && (d->intx_level & PCI_INTX_LEVEL))
            byte |= PCI_STATUS_INT;
        value |= (uint32_t)byte << (8 * i);
    }
    return value;
}

static void pci_msix_unmasked(struct pci_device *d);

EMU_PRIV void pci_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
    unsigned i;
    for (i = 0; i < size && offset + i < sizeof d->config; i++) {
        unsigned o = offset + i;
        uint8_t byte = (uint8_t)(value >> (8 * i));
        d->config[o] = (uint8_t)((d->config[o] & ~d->wmask[o]) | (byte & d->wmask[o]));
        d->config[o] &= (uint8_t)~(byte & d->w1c[o]);
    }
    if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND)
        pci_update_intx(d);
    if (offset < PCI_ROM_BAR + 4 && offset + size > PCI_COMMAND)
        pci_update_mappings(d);
    if (d->msix_cap && offset <= (unsigned)d->msix_cap + 3 && offset + size > (unsigned)d->msix_cap + 3)
        pci_msix_unmasked(d);
}

static struct pci_device *pci_selected(const struct pci_bus *bus)
{
    if (!(bus->address & 0x80000000u) || (bus->address & 0x00FF0000u))
        return NULL;
    return bus->devices[(bus->address >> 8) & 0xFF];
}

static uint64_t pci_data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_bus *bus = opaque;
    struct pci_device *d = pci_selected(bus);
    unsigned reg = (bus->address & 0xFC) | (unsigned)offset;
    if (!d)
        return UINT64_MAX;
    return d->config_read ? d->config_read(d, reg, size) : pci_config_read(d, reg, size);
}

static void pci_data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_bus *bus = opaque;
    struct pci_device *d = pci_selected(bus);
    unsigned reg = (bus->address & 0xFC) | (unsigned)offset;
    if (!d)
        return;
    if (d->config_write)
        d->config_write(d, reg, (uint32_t)value, size);
    else
        pci_config_write(d, reg, (uint32_t)value, size);
}

/* CF8h takes whole dwords only (§3.2.2.3.2); a byte at CF9h is the PIIX3's reset control register. */
static uint64_t pci_address_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_bus *bus = opaque;
    if (offset == 0 && size == 4)
        return bus->address;
    if (offset == 1 && size == 1)
        return piix3_read_reset_control(bus->emu);
    return UINT64_MAX;
}

static void pci_address_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_bus *bus = opaque;
    if (offset == 0 && size == 4)
        bus->address = (uint32_t)value & 0x80FFFFFCu;
    else if (offset == 1 && size == 1)
        piix3_reset_control(bus->emu, (uint8_t)value);
}

static const struct region_ops pci_address_ops = { pci_address_read, pci_address_write, 1, 4, true };
static const struct region_ops pci_data_ops = { pci_data_read, pci_data_write, 1, 4, true };

/* ---- devices on the bus ---- */

EMU_PRIV int pci_parse_devfn(struct options *opts, int *devfn, struct err *err)
{
    const char *text = opts ? options_get(opts, "addr") : NULL, *p = text;
    unsigned slot = 0, function = 0, digits = 0;
    if (!text)
        return 0;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
        p += 2;
    for (; digits < 2; digits++, p++) {
        const char *hex = "0123456789abcdef", *at;
        char c = *p >= 'A' && *p <= 'F' ? (char)(*p - 'A' + 'a') : *p;
        if (!c || !(at = strchr(hex, c)))
            break;
        slot = slot * 16 + (unsigned)(at - hex);
    }
    if (digits && p[0] == '.' && p[1] >= '0' && p[1] <= '7') {
        function = (unsigned)(p[1] - '0');
        p += 2;
    }
    if (!digits || *p || slot > 31)
        return err_set(err, EMU_EINVAL, "addr=%s: not a PCI address; write slot or slot.function in hex, 00 to 1f.7", text);
    *devfn = (int)(slot * 8 + function);
    return 0;
}

static int pci_free_slot(const struct pci_bus *bus)
{
    int slot, function;
    for (slot = 2; slot < 32; slot++) {
        for (function = 0; function < 8 && !bus->devices[slot * 8 + function]; function++)
            ;
        if (function == 8)
            return slot * 8;
    }
    return -1;
}

EMU_PRIV int pci_device_init(struct pci_device *d, int devfn, uint16_t vendor, uint16_t device, uint32_t class_rev, struct err *err)
{
    struct pci_bus *bus = d->dev.emu->pci;
    if (!bus)
        return err_set(err, EMU_EINVAL, "%s: this machine has no PCI bus", d->dev.cls->name);
    if (devfn < 0)
        devfn = pci_free_slot(bus);
    if (devfn < 0 || devfn > 255)
        return err_set(err, EMU_ENOSPC, "%s: no PCI slot is free", d->dev.cls->name);
    if (bus->devices[devfn])
        return err_set(err, EMU_EBUSY, "%s: PCI address %02x.%d is taken by %s", d->dev.cls->name, devfn >> 3, devfn & 7,
                       bus->devices[devfn]->dev.cls->name);
    d->bus = bus;
    d->devfn = (uint8_t)devfn;
    bus->devices[devfn] = d;
    st16le(d->config, vendor);
    st16le(d->config + 2, device);
    st32le(d->config + 8, class_rev);
    pci_set_subsystem(d, PCI_SUBVENDOR_QEMU, PCI_SUBSYSTEM_QEMU);
    st16le(d->wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
    st16le(d->w1c + PCI_STATUS, 0xF900);
    d->wmask[PCI_CACHE_LINE] = 0xFF;
    d->wmask[PCI_INT_LINE] = 0xFF;
    memset(d->wmask + 0x40, 0xFF, sizeof d->wmask - 0x40);
    return 0;
}

EMU_PRIV void pci_set_subsystem(struct pci_device *d, uint16_t vendor, uint16_t device)
{
    st16le(d->config + PCI_SUBSYSTEM, vendor);
    st16le(d->config + PCI_SUBSYSTEM + 2, device);
}

/* Capabilities lie one behind the other from 40h on. The whole of a new one is read-only. Returns its offset, 0: full. */
EMU_PRIV unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned size)
{
    unsigned at = d->cap_end ? d->cap_end : 0x40;
    size = (size + 3) & ~3u;
    if (at + size > sizeof d->config)
        return 0;
    d->cap_end = (uint16_t)(at + size);
    memset(d->wmask + at, 0, size);
    memset(d->config + at, 0, size);
    d->config[at] = id;
    d->config[at + 1] = d->config[PCI_CAP_POINTER];
    d->config[PCI_CAP_POINTER] = (uint8_t)at;
    d->config[PCI_STATUS] |= PCI_STATUS_CAPS;
    return at;
}

EMU_PRIV void pci_device_reset(struct pci_device *d)
{
    unsigned i;
    d->intx_level &= (uint8_t)~PCI_INTX_LEVEL;
    pci_update_intx(d);
    st16le(d->config + PCI_COMMAND, 0);
    d->config[PCI_CACHE_LINE] = 0;
    d->config[PCI_INT_LINE] = 0;
    for (i = 0; i < EMU_ARRAY_LEN(d->bars); i++)
        if (d->bars[i].present) {
            unsigned o = pci_bar_offset(i), n = d->bars[i].mem64 ? 8 : 4, k;
            for (k = 0; k < n; k++)
                d->config[o + k] &= (uint8_t)~d->wmask[o + k];
        }
    if (d->msi_cap)
        for (i = PCI_MSI_CTL; i < PCI_MSI_SIZE; i++)
            d->config[d->msi_cap + i] &= (uint8_t)~d->wmask[d->msi_cap + i];
    if (d->msix) {
        d->config[d->msix_cap + PCI_MSIX_CTL + 1] &= 0x3F;
        memset(d->msix->table, 0, (size_t)d->msix->vectors * PCI_MSIX_ENTRY);
        memset(d->msix->pending, 0, (d->msix->vectors + 63) / 64 * 8);
        for (i = 0; i < d->msix->vectors; i++)
            d->msix->table[i * PCI_MSIX_ENTRY + 12] = PCI_MSIX_ENTRY_MASKED;
    }
    pci_update_mappings(d);
}

EMU_PRIV void pci_device_remove(struct pci_device *d)
{
    struct emu *e = d->dev.emu;
    unsigned i;
    if (!d->bus)
        return;
    pci_set_intx(d, 0);
    for (i = 0; i < EMU_ARRAY_LEN(d->bars); i++)
        if (d->bars[i].present)
            region_remove(e, d->bars[i].io ? &e->ports : &e->memory, &d->bars[i].region);
    if (d->msix) {
        emu_free(e, d->msix->table);
        emu_free(e, d->msix->pending);
        emu_free(e, d->msix);
        d->msix = NULL;
    }
    d->bus->devices[d->devfn] = NULL;
    d->bus = NULL;
}

/* ---- MSI (§6.8.1): 64-bit addresses, no masking per vector ---- */

EMU_PRIV int pci_add_msi(struct pci_device *d, unsigned vectors)
{
    unsigned log2 = 0, at = pci_add_capability(d, PCI_CAP_MSI, PCI_MSI_SIZE);
    if (!at || !vectors || vectors > 32)
        return EMU_ENOSPC;
    while ((1u << log2) < vectors)
        log2++;
    d->msi_cap = (uint16_t)at;
    st16le(d->config + at + PCI_MSI_CTL, (uint16_t)(PCI_MSI_64BIT | (log2 << 1)));
    st16le(d->wmask + at + PCI_MSI_CTL, PCI_MSI_ENABLE | (7 << 4));
    st32le(d->wmask + at + PCI_MSI_ADDR, 0xFFFFFFFCu);
    st32le(d->wmask + at + PCI_MSI_ADDR_HIGH, 0xFFFFFFFFu);
    st16le(d->wmask + at + PCI_MSI_DATA, 0xFFFF);
    return 0;
}

EMU_PRIV bool pci_msi_enabled(const struct pci_device *d)
{
    return d->msi_cap && (d->config[d->msi_cap + PCI_MSI_CTL] & PCI_MSI_ENABLE);
}

static void pci_send_message(struct pci_device *d, uint64_t address, uint32_t data)
{
    if (!pci_bus_master(d))
        return; /* a message is a memory write, which needs bus mastering */
    if ((address >> 20) == 0xFEE)
        apic_deliver_msi(d->dev.emu, address, data);
    else
        mem_st(d->dev.emu, address, data, 4);
}

EMU_PRIV void pci_msi_send(struct pci_device *d, unsigned vector)
{
    const uint8_t *cap = d->config + d->msi_cap;
    unsigned granted = 1u << EMU_MIN((unsigned)(cap[PCI_MSI_CTL] >> 4) & 7, 5u); /* vectors the guest gave */
    if (!pci_msi_enabled(d))
        return;
    pci_send_message(d, ld32le(cap + PCI_MSI_ADDR) | (uint64_t)ld32le(cap + PCI_MSI_ADDR_HIGH) << 32,
                     (ld16le(cap + PCI_MSI_DATA) & ~(granted - 1)) | (vector & (granted - 1)));
}

/* ---- MSI-X (§6.8.2) ---- */

EMU_PRIV bool pci_msix_enabled(const struct pci_device *d)
{
    return d->msix && (ld16le(d->config + d->msix_cap + PCI_MSIX_CTL) & PCI_MSIX_ENABLE);
}

static bool pci_msix_masked(const struct pci_device *d, unsigned vector)
{
    return (ld16le(d->config + d->msix_cap + PCI_MSIX_CTL) & PCI_MSIX_MASK_ALL) ||
           (d->msix->table[vector * PCI_MSIX_ENTRY + 12] & PCI_MSIX_ENTRY_MASKED);
}

EMU_PRIV void pci_msix_send(struct pci_device *d, unsigned vector)
{
    const uint8_t *entry;
    if (!pci_msix_enabled(d) || vector >= d->msix->vectors)
        return;
    entry = d->msix->table + (size_t)vector * PCI_MSIX_ENTRY;
    if (pci_msix_masked(d, vector)) {
        d->msix->pending[vector / 8] |= (uint8_t)(1u << (vector & 7));
        return;
    }
    d->msix->pending[vector / 8] &= (uint8_t)~(1u << (vector & 7));
    pci_send_message(d, ld64le(entry), ld32le(entry + 8));
}

/* Sends what waited for a mask to go. */
static void pci_msix_unmasked(struct pci_device *d)
{
    unsigned v;
    if (!pci_msix_enabled(d))
        return;
    for (v = 0; v < d->msix->vectors; v++)
        if (((d->msix->pending[v / 8] >> (v & 7)) & 1) && !pci_msix_masked(d, v))
            pci_msix_send(d, v);
}

static uint64_t pci_msix_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_device *d = opaque;
    struct pci_msix *m = d->msix;
    uint64_t table = (uint64_t)m->vectors * PCI_MSIX_ENTRY, pba = (m->vectors + 63) / 64 * 8;
    if (offset + size <= table)
        return ldn_le(m->table + offset, size);
    if (offset >= m->pba_offset && offset - m->pba_offset + size <= pba)
        return ldn_le(m->pending + (offset - m->pba_offset), size);
    return 0;
}

static void pci_msix_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_device *d = opaque;
    struct pci_msix *m = d->msix;
    if (offset + size > (uint64_t)m->vectors * PCI_MSIX_ENTRY)
        return; /* pending bits are read-only */
    stn_le(m->table + offset, value, size);
    pci_msix_unmasked(d);
}

static const struct region_ops pci_msix_ops = { pci_msix_read, pci_msix_write, 4, 8, false };

EMU_PRIV int pci_add_msix_bar(struct pci_device *d, unsigned bar, unsigned vectors)
{
    struct emu *e = d->dev.emu;
    struct pci_msix *m;
    uint64_t half = 2048;
    unsigned at;
    if (!vectors || vectors > 2048)
        return EMU_EINVAL;
    while (half < (uint64_t)vectors * PCI_MSIX_ENTRY)
        half *= 2;
    m = emu_alloc(e, sizeof *m);
    if (!m)
        return EMU_ENOMEM;
    m->table = emu_alloc(e, (size_t)vectors * PCI_MSIX_ENTRY);
    m->pending = emu_alloc(e, (vectors + 63) / 64 * 8);
    at = m->table && m->pending ? pci_add_capability(d, PCI_CAP_MSIX, PCI_MSIX_SIZE) : 0;
    if (!at) {
        emu_free(e, m->table);
        emu_free(e, m->pending);
        emu_free(e, m);
        return EMU_ENOMEM;
    }
    m->vectors = vectors;
    m->pba_offset = half;
    d->msix = m;
    d->msix_cap = (uint16_t)at;
    st16le(d->config + at + PCI_MSIX_CTL, (uint16_t)(vectors - 1));
    st16le(d->wmask + at + PCI_MSIX_CTL, PCI_MSIX_ENABLE | PCI_MSIX_MASK_ALL);
    st32le(d->config + at + PCI_MSIX_TABLE, bar);
    st32le(d->config + at + PCI_MSIX_PBA, (uint32_t)half | bar);
    pci_add_bar_io(d, bar, "msix", half * 2, false, &pci_msix_ops, d);
    return 0;
}

EMU_PRIV void pci_notify(struct pci_device *d, unsigned vector, int intx_level)
{
    if (pci_msix_enabled(d)) {
        if (intx_level)
            pci_msix_send(d, vector);
    } else if (pci_msi_enabled(d)) {
        if (intx_level)
            pci_msi_send(d, vector);
    } else {
        pci_set_intx(d, intx_level);
    }
}

/* ---- the bus ---- */

EMU_PRIV int pci_bus_create(struct emu *e, struct err *err)
{
    struct pci_bus *bus;
    if (e->pci)
        return 0;
    bus = emu_alloc(e, sizeof *bus);
    if (!bus || !chipset_get(e)) {
        emu_free(e, bus);
        return err_set(err, EMU_ENOMEM, "out of memory");
    }
    bus->emu = e;
    e->pci = bus;
    port_add(e, &bus->cf8, "pci-address", 0xCF8, 4, &pci_address_ops, bus);
    port_add(e, &bus->cfc, "pci-data", 0xCFC, 4, &pci_data_ops, bus);
    return 0;
}

EMU_PRIV void pci_bus_reset(struct emu *e)
{
    unsigned i;
    if (!e->pci)
        return;
    e->pci->address = 0;
    for (i = 0; i < EMU_ARRAY_LEN(e->pci->devices); i++)
        if (e->pci->devices[i])
            pci_device_reset(e->pci->devices[i]);
}

EMU_PRIV void pci_bus_destroy(struct emu *e)
{
    if (!e->pci)
        return;
    region_remove(e, &e->ports, &e->pci->cf8);
    region_remove(e, &e->ports, &e->pci->cfc);
    emu_free(e, e->pci);
    e->pci = NULL;
}

static const char *pci_class_name(unsigned class_code)
{
    static const struct { uint16_t code; const char *name; } names[] = {
        { 0x0100, "SCSI controller" }, { 0x0101, "IDE controller" }, { 0x0106, "SATA controller" }, { 0x0108, "NVMe controller" },
        { 0x0200, "Ethernet controller" }, { 0x0300, "VGA controller" }, { 0x0401, "Audio controller" }, { 0x0600, "Host bridge" },
        { 0x0601, "ISA bridge" }, { 0x0604, "PCI bridge" }, { 0x0680, "Bridge" }, { 0x0780, "Communication controller" }, { 0x0C03, "USB controller" },
    };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(names); i++)
        if (names[i].code == class_code)
            return names[i].name;
    return NULL;
}

static void pci_print_bar(const struct pci_device *d, unsigned i, struct buf *out)
{
    const struct pci_bar *b = &d->bars[i];
    uint64_t address = 0;
    if (!b->present)
        return;
    if (!pci_bar_address(d, i, &address))
        buf_printf(out, "      BAR%u: %s of %" PRIu64 " bytes, not mapped.\n", i, b->io ? "I/O" : "memory", b->size);
    else if (b->io)
        buf_printf(out, "      BAR%u: I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n", i, address, address + b->size - 1);
    else
        buf_printf(out, "      BAR%u: %d bit %smemory at 0x%08" PRIx64 " [0x%08" PRIx64 "].\n", i, b->mem64 ? 64 : 32,
                   b->prefetch ? "prefetchable " : "", address, address + b->size - 1);
}

EMU_PRIV void pci_print_info(struct emu *e, struct buf *out)
{
    unsigned i, k;
    for (i = 0; e->pci && i < EMU_ARRAY_LEN(e->pci->devices); i++) {
        const struct pci_device *d = e->pci->devices[i];
        const char *name;
        if (!d)
            continue;
        name = pci_class_name(ld16le(d->config + 10));
        buf_printf(out, "  Bus  0, device %3u, function %u:\n", i >> 3, i & 7);
        if (name)
            buf_printf(out, "    %s", name);
        else
            buf_printf(out, "    Class %04x", ld16le(d->config + 10));
        buf_printf(out, ": PCI device %04x:%04x\n      PCI subsystem %04x:%04x\n", ld16le(d->config), ld16le(d->config + 2),
                   ld16le(d->config + PCI_SUBSYSTEM), ld16le(d->config + PCI_SUBSYSTEM + 2));
        if (d->config[PCI_INT_PIN])
            buf_printf(out, "      IRQ %u, pin %c\n", d->config[PCI_INT_LINE], '@' + d->config[PCI_INT_PIN]);
        for (k = 0; k < EMU_ARRAY_LEN(d->bars); k++)
            pci_print_bar(d, k, out);
        buf_printf(out, "      id \"%s\"\n", d->dev.id ? d->dev.id : "");
    }
}
#undef PCI_SUBVENDOR_QEMU
#undef PCI_SUBSYSTEM_QEMU

/* ======================================== src/dev/i440fx.c ======================================== */

/* dev/i440fx.c - host bridge: who answers between 640 KiB and 1 MiB.
 *
 * Models     Intel 82441FX (440FX PMC), 290549-001: PAM registers 59h-5Fh (§3.2.17), SMRAM register 72h (§3.2.20). Ids and reset values as
 *            QEMU's pc shows them.
 * Contract   board.c creates RAM first, then this device, which makes the PCI bus. Firmware adds ROM at MAP_PRIO_ROM.
 * Theory     Between A0000h and FFFFFh the bridge sends an access to the PCI side unless a register says RAM. The PCI side is the region
 *            "pci-hole" (nobody: all ones) with the VGA window and ROMs above it. Each of the 13 PAM fields has a RAM region above those,
 *            whose read and write halves are switched by the field's two bits. A0000h-BFFFFh is RAM while SMRAM.D_OPEN is set.
 * Invariants 1. pam[n] answers reads exactly while RE of field n is set, writes while WE is.
 *            2. Once D_LCK is set, register 72h does not change until reset.
 * Missing    System management mode itself (no SMI is ever raised); DRAM row registers (kept, no effect).
 */

enum {
    I440FX_PAM0 = 0x59, I440FX_PAM_COUNT = 13, I440FX_SMRAM = 0x72, I440FX_RAM_SIZE = 0x57 /* in 8 MiB, a note for coreboot */,
    SMRAM_G_SMRAME = 0x08, SMRAM_D_LCK = 0x10, SMRAM_D_OPEN = 0x40, SMRAM_C_BASE = 0x02
};
#define I440FX_LEGACY_BASE UINT64_C(0xA0000)
#define I440FX_LEGACY_SIZE UINT64_C(0x60000)
#define I440FX_SMRAM_SIZE UINT64_C(0x20000)

struct i440fx {
    struct pci_device pci;
    struct region hole, smram;
    struct region pam[I440FX_PAM_COUNT]; /* 0: F0000h-FFFFFh, 1 + n: 16 KiB at C0000h + n * 16 KiB */
    bool has_ram;
};

static uint64_t i440fx_pam_base(unsigned i) { return i ? 0xC0000 + (uint64_t)(i - 1) * 0x4000 : 0xF0000; }
static uint64_t i440fx_pam_size(unsigned i) { return i ? 0x4000 : 0x10000; }

static void i440fx_update_memory(struct i440fx *s)
{
    struct emu *e = s->pci.dev.emu;
    unsigned i;
    if (!s->has_ram)
        return;
    for (i = 0; i < I440FX_PAM_COUNT; i++) {
        struct region *r = &s->pam[i];
        uint8_t field = s->pci.config[I440FX_PAM0 + (i + 1) / 2]; /* 59h: high nibble is field 0; 5Ah: low is 1, high is 2 ... */
        uint8_t access = (uint8_t)(((i & 1) ? field : field >> 4) & (REGION_READS | REGION_WRITES)); /* bit 0 RE, bit 1 WE */
        if (access != r->access || r->enabled != (access != 0)) {
            r->access = access;
            region_set(e, &e->memory, r, r->base, false); /* the change of halves is seen through a change of state */
            region_set(e, &e->memory, r, r->base, access != 0);
        }
    }
    region_set(e, &e->memory, &s->smram, I440FX_LEGACY_BASE, (s->pci.config[I440FX_SMRAM] & SMRAM_D_OPEN) != 0);
}
EMU_STATIC_ASSERT(REGION_READS == 1 && REGION_WRITES == 2, i440fx_pam_bits);

static void i440fx_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
    struct i440fx *s = EMU_CONTAINER(d, struct i440fx, pci);
    uint8_t smram = d->config[I440FX_SMRAM];
    pci_config_write(d, offset, value, size);
    if (smram & SMRAM_D_LCK)
        d->config[I440FX_SMRAM] = smram;
    else if (d->config[I440FX_SMRAM] & SMRAM_D_LCK)
        d->config[I440FX_SMRAM] &= (uint8_t)~SMRAM_D_OPEN;
    if (offset <= I440FX_SMRAM && offset + size > I440FX_PAM0)
        i440fx_update_memory(s);
}

static const struct region_ops i440fx_hole_ops = { NULL, NULL, 1, 8, true };

static int i440fx_create(struct device *dev, struct options *opts, struct err *err)
{
    struct i440fx *s = EMU_CONTAINER(dev, struct i440fx, pci.dev);
    struct emu *e = dev->emu;
    unsigned i;
    int r = pci_bus_create(e, err);
    (void)opts;
    if (r < 0)
        return r;
    r = pci_device_init(&s->pci, 0, 0x8086, 0x1237, 0x06000002, err);
    if (r < 0)
        return r;
    chipset_of(e)->i440fx = s;
    s->pci.config[7] = 0x02; /* DEVSEL medium */
    s->pci.config_write = i440fx_config_write;
    region_init_io(&s->hole, "pci-hole", &i440fx_hole_ops, s, I440FX_LEGACY_SIZE);
    region_add(e, &e->memory, &s->hole, I440FX_LEGACY_BASE, MAP_PRIO_HOLE);
    s->has_ram = e->ram && e->ram->size_bytes >= I440FX_LEGACY_BASE + I440FX_LEGACY_SIZE;
    if (!s->has_ram)
        return 0;
    region_init_ram(&s->smram, "smram", e->ram, I440FX_LEGACY_BASE, I440FX_SMRAM_SIZE);
    region_add(e, &e->memory, &s->smram, I440FX_LEGACY_BASE, MAP_PRIO_SMRAM);
    for (i = 0; i < I440FX_PAM_COUNT; i++) {
        region_init_ram(&s->pam[i], "pam-ram", e->ram, i440fx_pam_base(i), i440fx_pam_size(i));
        region_add(e, &e->memory, &s->pam[i], i440fx_pam_base(i), MAP_PRIO_PAM);
    }
    i440fx_update_memory(s);
    return 0;
}

static void i440fx_reset(struct device *dev)
{
    struct i440fx *s = EMU_CONTAINER(dev, struct i440fx, pci.dev);
    memset(s->pci.config + 0x40, 0, sizeof s->pci.config - 0x40);
    if (dev->emu->ram)
        s->pci.config[I440FX_RAM_SIZE] = (uint8_t)EMU_MIN(dev->emu->ram->size_bytes / (8 * MIB), 255);
    s->pci.config[I440FX_SMRAM] = SMRAM_C_BASE;
    i440fx_update_memory(s);
}

static void i440fx_destroy(struct device *dev)
{
    struct i440fx *s = EMU_CONTAINER(dev, struct i440fx, pci.dev);
    struct emu *e = dev->emu;
    unsigned i;
    region_remove(e, &e->memory, &s->hole);
    region_remove(e, &e->memory, &s->smram);
    for (i = 0; i < I440FX_PAM_COUNT; i++)
        region_remove(e, &e->memory, &s->pam[i]);
    pci_device_remove(&s->pci);
    if (chipset_of(e))
        chipset_of(e)->i440fx = NULL;
}

EMU_PRIV const struct device_class i440fx_class = {
    .name = "i440FX", .bus = "pci", .help = "Intel 440FX host bridge", .instance_size = sizeof(struct i440fx),
    .create = i440fx_create, .reset = i440fx_reset, .destroy = i440fx_destroy,
};
#undef I440FX_LEGACY_BASE
#undef I440FX_LEGACY_SIZE
#undef I440FX_SMRAM_SIZE

/* ======================================== src/dev/piix3.c ======================================== */

/* dev/piix3.c - PCI to ISA bridge: PIRQ routing, resets, APM ports, port 92h, A20, FERR.
 *
 * Models     Intel 82371SB (PIIX3), 290550-002: PIRQRC 60h-63h (§2.2.6), reset control CF9h (§2.5.6.1), APM ports B2h-B3h, coprocessor error
 *            port F0h. Port 92h as PS/2 system control port A. Ids and reset values as QEMU's pc shows them.
 * Contract   emu->pci->intx[] lines end in piix3_set_pirq(); the ISA inputs come out at board_gsi(). The IDE function 01.1 and the power
 *            management function 01.3 are files of their own. CF9h is decoded by pci.c, which passes it here.
 * Theory     A PIRQ is routed to one ISA input or to none; several may share one, which is then driven with their OR.
 * Invariants 1. irq_level bit n is the OR of the levels of all PIRQs routed to ISA input n, and what board_gsi(n) was last told.
 * Missing    X-bus chip selects, ISA timing, MIRQ: registers are kept without effect.
 */

enum {
    PIIX3_PIRQRC = 0x60, PIIX3_PIRQ_COUNT = 4, PIIX3_PIRQ_OFF = 0x80, PIIX3_ISA_IRQS = 16,
    RCR_HARD = 2, RCR_CPU = 4, /* reset control: type, and the bit that triggers */
    PORT92_FAST_RESET = 1, PORT92_A20 = 2
};

struct piix3 {
    struct pci_device pci;
    uint8_t pirq_level[PIIX3_PIRQ_COUNT];
    uint16_t irq_level;
    uint8_t reset_control;
    uint8_t apm_control, apm_status;
    struct region apm, port80, port_f0;
};

/* ---- interrupt routing ---- */

static void piix3_route(struct piix3 *s)
{
    uint16_t level = 0, changed;
    unsigned i;
    for (i = 0; i < PIIX3_PIRQ_COUNT; i++) {
        uint8_t route = s->pci.config[PIIX3_PIRQRC + i];
        if (s->pirq_level[i] && route < PIIX3_ISA_IRQS)
            level |= (uint16_t)(1u << route);
    }
    changed = level ^ s->irq_level;
    s->irq_level = level;
    for (i = 0; i < PIIX3_ISA_IRQS; i++)
        if ((changed >> i) & 1) {
            struct irq line = board_gsi(s->pci.dev.emu, (int)i);
            irq_set(&line, (level >> i) & 1);
        }
}

EMU_PRIV void piix3_set_pirq(void *piix3, int pirq, int level)
{
    struct piix3 *s = piix3;
    s->pirq_level[pirq & 3] = level != 0;
    piix3_route(s);
}

static void piix3_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
    pci_config_write(d, offset, value, size);
    if (offset < PIIX3_PIRQRC + PIIX3_PIRQ_COUNT && offset + size > PIIX3_PIRQRC)
        piix3_route(EMU_CONTAINER(d, struct piix3, pci));
}

/* ---- reset control, CF9h ---- */

EMU_PRIV void piix3_reset_control(struct emu *e, uint8_t value)
{
    struct piix3 *s = chipset_of(e) ? chipset_of(e)->piix3 : NULL;
    if (!s)
        return;
    s->reset_control = value & RCR_HARD;
    if (value & RCR_CPU)
        emu_request(e, REQ_RESET);
}

EMU_PRIV uint8_t piix3_read_reset_control(struct emu *e)
{
    struct piix3 *s = chipset_of(e) ? chipset_of(e)->piix3 : NULL;
    return s ? s->reset_control : 0xFF;
}

/* ---- APM ports: B2h is the firmware's command port, too (ACPI enable) ---- */

static uint64_t piix3_apm_read(void *opaque, uint64_t offset, unsigned size)
{
    struct piix3 *s = opaque;
    (void)size;
    return offset ? s->apm_status : s->apm_control;
}

static void piix3_apm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix3 *s = opaque;
    (void)size;
    if (offset) {
        s->apm_status = (uint8_t)value;
    } else {
        s->apm_control = (uint8_t)value;
        piix4_pm_apm_command(s->pci.dev.emu, (uint8_t)value);
    }
}

static const struct region_ops piix3_apm_ops = { piix3_apm_read, piix3_apm_write, 1, 1, false };

/* ---- port 80h (POST codes, delays) and F0h (coprocessor error) ---- */

static uint64_t piix3_ones_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque;
    (void)offset;
    (void)size;
    return UINT64_MAX;
}

static void piix3_post_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)opaque;
    (void)offset;
    (void)value;
    (void)size;
}

static void piix3_f0_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix3 *s = opaque;
    (void)offset;
    (void)value;
    (void)size;
    chipset_set_ferr(s->pci.dev.emu, false);
}

static const struct region_ops piix3_port80_ops = { piix3_ones_read, piix3_post_write, 1, 4, true };
static const struct region_ops piix3_f0_ops = { piix3_ones_read, piix3_f0_write, 1, 1, false };

EMU_PRIV void chipset_set_ferr(struct emu *e, bool on)
{
    struct irq line = board_gsi(e, 13);
    irq_set(&line, on);
}

/* ---- the device ---- */

static int piix3_create(struct device *dev, struct options *opts, struct err *err)
{
    struct piix3 *s = EMU_CONTAINER(dev, struct piix3, pci.dev);
    struct emu *e = dev->emu;
    unsigned i;
    int r = pci_device_init(&s->pci, 1 * 8 + 0, 0x8086, 0x7000, 0x06010000, err);
    (void)opts;
    if (r < 0)
        return r;
    chipset_of(e)->piix3 = s;
    s->pci.config[7] = 0x02;    /* DEVSEL medium */
    s->pci.config[0x0E] = 0x80; /* more functions follow */
    s->pci.config_write = piix3_config_write;
    for (i = 0; i < PIIX3_PIRQ_COUNT; i++) {
        e->pci->intx[i].set = piix3_set_pirq;
        e->pci->intx[i].opaque = s;
        e->pci->intx[i].line = (int)i;
    }
    port_add(e, &s->apm, "apm", 0xB2, 2, &piix3_apm_ops, s);
    port_add(e, &s->port80, "post-code", 0x80, 1, &piix3_port80_ops, s);
    port_add(e, &s->port_f0, "coprocessor-error", 0xF0, 1, &piix3_f0_ops, s);
    return 0;
}

static void piix3_reset(struct device *dev)
{
    static const struct { uint8_t offset, value; } defaults[] = {
        { 0x4C, 0x4D }, { 0x4E, 0x03 }, { 0x60, 0x80 }, { 0x61, 0x80 }, { 0x62, 0x80 }, { 0x63, 0x80 }, { 0x69, 0x02 },
        { 0x70, 0x80 }, { 0x76, 0x0C }, { 0x77, 0x0C }, { 0x78, 0x02 }, { 0xA0, 0x08 }, { 0xA8, 0x0F },
    };
    struct piix3 *s = EMU_CONTAINER(dev, struct piix3, pci.dev);
    size_t i;
    memset(s->pci.config + 0x40, 0, sizeof s->pci.config - 0x40);
    for (i = 0; i < EMU_ARRAY_LEN(defaults); i++)
        s->pci.config[defaults[i].offset] = defaults[i].value;
    s->reset_control = s->apm_control = s->apm_status = 0;
    piix3_route(s);
    chipset_set_ferr(dev->emu, false);
}

static void piix3_destroy(struct device *dev)
{
    struct piix3 *s = EMU_CONTAINER(dev, struct piix3, pci.dev);
    struct emu *e = dev->emu;
    region_remove(e, &e->ports, &s->apm);
    region_remove(e, &e->ports, &s->port80);
    region_remove(e, &e->ports, &s->port_f0);
    if (e->pci)
        memset(e->pci->intx, 0, sizeof e->pci->intx);
    pci_device_remove(&s->pci);
    if (chipset_of(e))
        chipset_of(e)->piix3 = NULL;
}

EMU_PRIV const struct device_class piix3_class = {
    .name = "PIIX3", .bus = "pci", .help = "Intel PIIX3 PCI to ISA bridge", .instance_size = sizeof(struct piix3),
    .create = piix3_create, .reset = piix3_reset, .destroy = piix3_destroy,
};

/* ---- A20 and port 92h ---- */

EMU_PRIV void chipset_set_a20(struct emu *e, bool on)
{
    uint64_t mask = on ? UINT64_MAX : ~(UINT64_C(1) << 20);
    if (e->a20_mask == mask)
        return;
    e->a20_mask = mask;
    if (e->on_map_change)
        e->on_map_change(e);
}

EMU_PRIV bool chipset_get_a20(const struct emu *e) { return (e->a20_mask >> 20) & 1; }

struct port92 {
    struct device dev;
    struct region port;
    uint8_t value;
};

static uint64_t port92_read(void *opaque, uint64_t offset, unsigned size)
{
    struct port92 *s = opaque;
    (void)offset;
    (void)size;
    return (s->value & ~PORT92_A20) | (chipset_get_a20(s->dev.emu) ? PORT92_A20 : 0);
}

static void port92_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct port92 *s = opaque;
    uint8_t was = s->value;
    (void)offset;
    (void)size;
    s->value = (uint8_t)value;
    chipset_set_a20(s->dev.emu, (value & PORT92_A20) != 0);
    if ((value & PORT92_FAST_RESET) && !(was & PORT92_FAST_RESET))
        emu_request(s->dev.emu, REQ_RESET);
}

static const struct region_ops port92_ops = { port92_read, port92_write, 1, 1, false };

static int port92_create(struct device *dev, struct options *opts, struct err *err)
{
    struct port92 *s = EMU_CONTAINER(dev, struct port92, dev);
    (void)opts;
    if (!chipset_get(dev->emu))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(dev->emu)->port92 = s;
    return port_add(dev->emu, &s->port, "port92", 0x92, 1, &port92_ops, s);
}

static void port92_reset(struct device *dev)
{
    EMU_CONTAINER(dev, struct port92, dev)->value = 0;
    chipset_set_a20(dev->emu, true);
}

static void port92_destroy(struct device *dev)
{
    region_remove(dev->emu, &dev->emu->ports, &EMU_CONTAINER(dev, struct port92, dev)->port);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->port92 = NULL;
}

EMU_PRIV const struct device_class port92_class = {
    .name = "port92", .bus = "isa", .help = "PS/2 system control port A: fast A20 and reset", .instance_size = sizeof(struct port92),
    .create = port92_create, .reset = port92_reset, .destroy = port92_destroy,
};

/* ======================================== src/dev/pic.c ======================================== */

/* dev/pic.c - the pair of 8259A interrupt controllers, with the edge/level control registers.
 *
 * Models     Intel 8259A data sheet 231468-003; ELCR at 4D0h/4D1h: PIIX3 290550-002 §2.5.7.
 * Contract   Lines come in by pic_set_line() (through board_gsi). The master's INTR goes to lapic_set_lint0(); the CPU's side takes a vector
 *            with pic_acknowledge(). Guests reach it at 20h-21h, A0h-A1h.
 * Theory     Per chip: IRR (requests), ISR (in service), IMR (masks), and the line that has lowest priority. A request is put forward
 *            when it is not masked and ranks above everything in service; the slave's output is the master's line 2.
 *            An edge input sets IRR at its rising edge, and IRR stays until acknowledged; a level input's IRR is the level itself.
 * Invariants 1. INTR is what pic_pending(master) says, after every access and line change (pic_update).
 *            2. A level input's IRR bit equals its line.
 *            3. elcr never has bits 0, 1, 2 (master) or 0, 5 (slave): these inputs are edge-triggered by wiring.
 * Missing    8080/85 mode (CALL bytes): ICW4.uPM = 0 is taken as 8086 mode. Buffered mode has no pins to act on.
 */

enum {
    PIC_ICW1 = 0x10, PIC_ICW1_IC4 = 0x01, PIC_ICW1_SNGL = 0x02, PIC_ICW1_LTIM = 0x08,
    PIC_ICW4_AEOI = 0x02, PIC_ICW4_SFNM = 0x10,
    PIC_OCW3 = 0x08, PIC_OCW3_RIS = 0x01, PIC_OCW3_RR = 0x02, PIC_OCW3_POLL = 0x04, PIC_OCW3_SMM = 0x20, PIC_OCW3_ESMM = 0x40,
    PIC_CASCADE = 2, PIC_SPURIOUS = 7
};
enum pic_expect { PIC_READY, PIC_EXPECT_ICW2, PIC_EXPECT_ICW3, PIC_EXPECT_ICW4 };

struct pic {
    struct pic_pair *pair;
    bool master;
    uint8_t irr, isr, imr, elcr, elcr_mask, lines;
    uint8_t lowest;      /* line of lowest priority; 7 after initialisation */
    uint8_t vector_base; /* bits 7-3 */
    uint8_t expect;      /* enum pic_expect */
    bool icw4_needed, single, level_mode, auto_eoi, rotate_on_aeoi, fully_nested_special, special_mask, read_isr, poll;
    struct region ports, elcr_port;
};
struct pic_pair {
    struct device dev;
    struct pic chip[2]; /* master, slave */
    bool intr;
};

static void pic_update(struct pic_pair *s);

static bool pic_is_level(const struct pic *p, unsigned line) { return p->level_mode || ((p->elcr >> line) & 1); }

/* Rank of the highest-priority line among bits, 0 highest; 8: none. */
static unsigned pic_rank(const struct pic *p, uint8_t bits)
{
    unsigned rank;
    for (rank = 0; rank < 8; rank++)
        if ((bits >> ((p->lowest + 1 + rank) & 7)) & 1)
            return rank;
    return 8;
}

/* The line that this chip puts forward, or -1. */
static int pic_pending(const struct pic *p)
{
    unsigned request = pic_rank(p, (uint8_t)(p->irr & ~p->imr)), service;
    uint8_t in_service = p->isr;
    if (request == 8)
        return -1;
    if (p->special_mask)
        in_service &= (uint8_t)~p->imr; /* masked lines in service stop nobody */
    if (p->fully_nested_special && p->master)
        in_service &= (uint8_t)~(1u << PIC_CASCADE); /* the slave sorts out its own */
    service = pic_rank(p, in_service);
    return request < service ? (int)((p->lowest + 1 + request) & 7) : -1;
}

static void pic_input(struct pic *p, unsigned line, bool on)
{
    uint8_t bit = (uint8_t)(1u << line);
    if (pic_is_level(p, line)) {
        p->irr = (uint8_t)((p->irr & ~bit) | (on ? bit : 0));
    } else if (on && !(p->lines & bit)) {
        p->irr |= bit;
    }
    p->lines = (uint8_t)((p->lines & ~bit) | (on ? bit : 0));
}

static void pic_update(struct pic_pair *s)
{
    bool intr;
    if (pic_pending(&s->chip[1]) >= 0) /* the cascade input follows the slave's output */
        s->chip[0].irr |= 1u << PIC_CASCADE;
    else
        s->chip[0].irr &= (uint8_t)~(1u << PIC_CASCADE);
    intr = pic_pending(&s->chip[0]) >= 0;
    if (intr != s->intr) {
        s->intr = intr;
        lapic_set_lint0(s->dev.emu, intr);
    }
}

EMU_PRIV void pic_set_line(struct emu *e, int line, int level)
{
    struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    if (!s || line < 0 || line > 15 || line == PIC_CASCADE)
        return;
    pic_input(&s->chip[line >> 3], (unsigned)line & 7, level != 0);
    pic_update(s);
}

EMU_PRIV bool pic_intr(struct emu *e)
{
    struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    return s && s->intr;
}

/* ---- acknowledge and end of interrupt ---- */

static void pic_take(struct pic *p, unsigned line)
{
    uint8_t bit = (uint8_t)(1u << line);
    if (!pic_is_level(p, line))
        p->irr &= (uint8_t)~bit;
    if (!p->auto_eoi)
        p->isr |= bit;
    else if (p->rotate_on_aeoi)
        p->lowest = (uint8_t)line;
}

/* One chip's part of INTA: its line, 7 when the request has gone (spurious: nothing enters service). */
static unsigned pic_inta(struct pic *p)
{
    int line = pic_pending(p);
    if (line < 0)
        return PIC_SPURIOUS;
    pic_take(p, (unsigned)line);
    return (unsigned)line;
}

EMU_PRIV int pic_acknowledge(struct emu *e)
{
    struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    unsigned line, vector;
    if (!s)
        return -1;
    line = pic_inta(&s->chip[0]);
    if (line == PIC_CASCADE && !s->chip[0].single)
        vector = s->chip[1].vector_base + pic_inta(&s->chip[1]);
    else
        vector = s->chip[0].vector_base + line;
    pic_update(s);
    return (int)vector;
}

static void pic_ocw2(struct pic *p, uint8_t value)
{
    unsigned line = value & 7, rank;
    switch (value >> 5) {
    case 1: /* non-specific EOI */
    case 5: /* rotate on non-specific EOI */
        rank = pic_rank(p, p->special_mask ? (uint8_t)(p->isr & ~p->imr) : p->isr);
        if (rank == 8)
            return;
        line = (p->lowest + 1u + rank) & 7;
        p->isr &= (uint8_t)~(1u << line);
        if (value >> 5 == 5)
            p->lowest = (uint8_t)line;
        break;
    case 3: /* specific EOI */
    case 7: /* rotate on specific EOI */
        p->isr &= (uint8_t)~(1u << line);
        if (value >> 5 == 7)
            p->lowest = (uint8_t)line;
        break;
    case 6: p->lowest = (uint8_t)line; break; /* set priority */
    case 4: p->rotate_on_aeoi = true; break;
    case 0: p->rotate_on_aeoi = false; break;
    default: break; /* 2: no operation */
    }
}

/* ---- registers ---- */

static void pic_icw1(struct pic *p, uint8_t value)
{
    unsigned line;
    p->level_mode = (value & PIC_ICW1_LTIM) != 0;
    p->irr = 0;
    for (line = 0; line < 8; line++) /* edges must come anew, levels show through */
        if (pic_is_level(p, line))
            p->irr |= p->lines & (uint8_t)(1u << line);
    p->isr = p->imr = 0;
    p->lowest = 7;
    p->special_mask = p->read_isr = p->poll = p->auto_eoi = p->rotate_on_aeoi = p->fully_nested_special = false;
    p->icw4_needed = (value & PIC_ICW1_IC4) != 0;
    p->single = (value & PIC_ICW1_SNGL) != 0;
    p->expect = PIC_EXPECT_ICW2;
}

static void pic_write_data(struct pic *p, uint8_t value)
{
    switch (p->expect) {
    case PIC_EXPECT_ICW2:
        p->vector_base = value & 0xF8;
        p->expect = !p->single ? PIC_EXPECT_ICW3 : p->icw4_needed ? PIC_EXPECT_ICW4 : PIC_READY;
        break;
    case PIC_EXPECT_ICW3: /* the cascade is wired: line 2, id 2 */
        p->expect = p->icw4_needed ? PIC_EXPECT_ICW4 : PIC_READY;
        break;
    case PIC_EXPECT_ICW4:
        p->fully_nested_special = (value & PIC_ICW4_SFNM) != 0;
        p->auto_eoi = (value & PIC_ICW4_AEOI) != 0;
        p->expect = PIC_READY;
        break;
    default: p->imr = value; break;
    }
}

static void pic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pic *p = opaque;
    (void)size;
    if (offset) {
        pic_write_data(p, (uint8_t)value);
    } else if (value & PIC_ICW1) {
        pic_icw1(p, (uint8_t)value);
    } else if (value & PIC_OCW3) {
        if (value & PIC_OCW3_ESMM)
            p->special_mask = (value & PIC_OCW3_SMM) != 0;
        if (value & PIC_OCW3_POLL)
            p->poll = true;
        else if (value & PIC_OCW3_RR)
            p->read_isr = (value & PIC_OCW3_RIS) != 0;
    } else {
        pic_ocw2(p, (uint8_t)value);
    }
    pic_update(p->pair);
}

/* The read after a poll command is an acknowledge: bit 7 and the line, or 0 (data sheet, "Poll Command"). */
static uint8_t pic_poll_read(struct pic *p)
{
    int line = pic_pending(p);
    p->poll = false;
    if (line < 0)
        return 0;
    pic_take(p, (unsigned)line);
    pic_update(p->pair);
    return (uint8_t)(0x80 | line);
}

static uint64_t pic_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pic *p = opaque;
    (void)size;
    if (p->poll)
        return pic_poll_read(p);
    if (offset)
        return p->imr;
    return p->read_isr ? p->isr : p->irr;
}

static uint64_t pic_elcr_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)offset;
    (void)size;
    return ((struct pic *)opaque)->elcr;
}

static void pic_elcr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pic *p = opaque;
    (void)offset;
    (void)size;
    p->elcr = (uint8_t)value & p->elcr_mask;
    p->irr = (uint8_t)((p->irr & ~p->elcr) | (p->lines & p->elcr)); /* invariant 2 */
    pic_update(p->pair);
}

static const struct region_ops pic_ops = { pic_read, pic_write, 1, 1, false };
static const struct region_ops pic_elcr_ops = { pic_elcr_read, pic_elcr_write, 1, 1, false };

/* ---- the device ---- */

static int pic_create(struct device *dev, struct options *opts, struct err *err)
{
    struct pic_pair *s = EMU_CONTAINER(dev, struct pic_pair, dev);
    struct emu *e = dev->emu;
    unsigned i;
    (void)opts;
    if (!chipset_get(e))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(e)->pic = s;
    for (i = 0; i < 2; i++) {
        s->chip[i].pair = s;
        s->chip[i].master = i == 0;
        s->chip[i].lowest = 7;
        s->chip[i].elcr_mask = i ? 0xDE : 0xF8;
        port_add(e, &s->chip[i].ports, i ? "pic-slave" : "pic-master", i ? 0xA0 : 0x20, 2, &pic_ops, &s->chip[i]);
        port_add(e, &s->chip[i].elcr_port, "elcr", (uint16_t)(0x4D0 + i), 1, &pic_elcr_ops, &s->chip[i]);
    }
    return 0;
}

static void pic_reset(struct device *dev)
{
    struct pic_pair *s = EMU_CONTAINER(dev, struct pic_pair, dev);
    unsigned i;
    for (i = 0; i < 2; i++) {
        struct pic *p = &s->chip[i];
        p->elcr = 0;
        pic_icw1(p, PIC_ICW1);
        p->vector_base = 0;
        p->expect = PIC_READY;
    }
    pic_update(s);
}

static void pic_destroy(struct device *dev)
{
    struct pic_pair *s = EMU_CONTAINER(dev, struct pic_pair, dev);
    unsigned i;
    for (i = 0; i < 2; i++) {
        region_remove(dev->emu, &dev->emu->ports, &s->chip[i].ports);
        region_remove(dev->emu, &dev->emu->ports, &s->chip[i].elcr_port);
    }
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->pic = NULL;
}

EMU_PRIV void pic_print_info(struct emu *e, struct buf *out)
{
    const struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    unsigned i;
    for (i = 2; s && i-- > 0;) {
        const struct pic *p = &s->chip[i];
        buf_printf(out, "pic%u: irr=%02x imr=%02x isr=%02x hprio=%u irq_base=%02x rr_sel=%u elcr=%02x fnm=%u\n", i, p->irr, p->imr,
                   p->isr, (p->lowest + 1u) & 7, p->vector_base, p->read_isr, p->elcr, p->fully_nested_special);
    }
}

EMU_PRIV const struct device_class pic_class = {
    .name = "i8259", .bus = "isa", .help = "two 8259A interrupt controllers", .instance_size = sizeof(struct pic_pair),
    .create = pic_create, .reset = pic_reset, .destroy = pic_destroy,
};

/* ======================================== src/dev/ioapic.c ======================================== */

/* dev/ioapic.c - I/O APIC, 24 pins.
 *
 * Models     Intel 82093AA, 290566-001, with the version 20h and the EOI register (offset 40h) of later parts, as QEMU's pc shows it.
 * Contract   Lines come in by ioapic_set_pin(); interrupts leave by apic_deliver(); local APICs report the end of level-triggered ones by
 *            ioapic_eoi(). chipset_set_gsi() joins it with the 8259 pair.
 * Theory     A pin has a level and a redirection entry. An edge pin sends one message at its rising edge. A level pin sends when it is
 *            asserted, unmasked and Remote IRR is clear; sending sets Remote IRR, the EOI clears it and looks at the level again.
 * Invariants 1. Remote IRR is set only in level-triggered entries.
 *            2. An asserted, unmasked level pin has Remote IRR set (for delivery modes that use it).
 * Missing    The polarity bit is kept without effect: lines here carry "asserted", not a voltage.
 */

enum {
    IOAPIC_PINS = 24, IOAPIC_VERSION = 0x20,
    IOAPIC_REGSEL = 0x00, IOAPIC_WINDOW = 0x10, IOAPIC_EOI = 0x40,
    IOAPIC_REG_ID = 0, IOAPIC_REG_VERSION = 1, IOAPIC_REG_ARB = 2, IOAPIC_REG_REDIR = 0x10,
    REDIR_LOGICAL = 1 << 11, REDIR_STATUS = 1 << 12, REDIR_REMOTE_IRR = 1 << 14, REDIR_LEVEL = 1 << 15, REDIR_MASKED = 1 << 16,
    REDIR_READ_ONLY = REDIR_STATUS | REDIR_REMOTE_IRR, REDIR_LOW_MASK = 0x1FFFF
};
#define IOAPIC_BASE UINT64_C(0xFEC00000)

struct ioapic {
    struct device dev;
    struct region region;
    uint8_t select, id;
    uint32_t level; /* bit n: pin n is asserted */
    uint64_t redir[IOAPIC_PINS];
};

static void ioapic_send(struct ioapic *s, unsigned pin)
{
    uint64_t r = s->redir[pin];
    unsigned mode = (unsigned)(r >> 8) & 7;
    struct emu *e = s->dev.emu;
    apic_deliver(e, (uint32_t)(r >> 56), (r & REDIR_LOGICAL) != 0, mode, (uint8_t)r, (r & REDIR_LEVEL) != 0);
}

/* Level pins: sends if it is time (invariant 2). */
static void ioapic_service_level(struct ioapic *s, unsigned pin)
{
    uint64_t r = s->redir[pin];
    unsigned mode = (unsigned)(r >> 8) & 7;
    if (!(r & REDIR_LEVEL) || (r & (REDIR_MASKED | REDIR_REMOTE_IRR)) || !((s->level >> pin) & 1))
        return;
    if (mode == APIC_FIXED || mode == APIC_LOWEST)
        s->redir[pin] |= REDIR_REMOTE_IRR;
    ioapic_send(s, pin);
}

EMU_PRIV void ioapic_set_pin(struct emu *e, int pin, int level)
{
    struct ioapic *s = chipset_of(e) ? chipset_of(e)->ioapic : NULL;
    uint32_t bit, was;
    if (!s || pin < 0 || pin >= IOAPIC_PINS)
        return;
    bit = UINT32_C(1) << pin;
    was = s->level;
    s->level = level ? s->level | bit : s->level & ~bit;
    if (s->redir[pin] & REDIR_LEVEL)
        ioapic_service_level(s, (unsigned)pin);
    else if (level && !(was & bit) && !(s->redir[pin] & REDIR_MASKED)) /* edges at a masked pin are lost: 82093AA §3.2.4 */
        ioapic_send(s, (unsigned)pin);
}

static void ioapic_end(struct ioapic *s, uint8_t vector)
{
    unsigned i;
    for (i = 0; i < IOAPIC_PINS; i++)
        if ((s->redir[i] & REDIR_REMOTE_IRR) && (uint8_t)s->redir[i] == vector) {
            s->redir[i] &= ~(uint64_t)REDIR_REMOTE_IRR;
            ioapic_service_level(s, i);
        }
}

EMU_PRIV void ioapic_eoi(struct emu *e, uint8_t vector)
{
    struct ioapic *s = chipset_of(e) ? chipset_of(e)->ioapic : NULL;
    if (s)
        ioapic_end(s, vector);
}

EMU_PRIV void chipset_set_gsi(void *emu, int gsi, int level)
{
    struct emu *e = emu;
    if (gsi < 16)
        pic_set_line(e, gsi, level);
    ioapic_set_pin(e, gsi == 0 ? 2 : gsi == 2 ? -1 : gsi, level);
}

/* ---- registers ---- */

static uint32_t ioapic_reg_read(const struct ioapic *s)
{
    unsigned i = (unsigned)(s->select - IOAPIC_REG_REDIR) / 2;
    switch (s->select) {
    case IOAPIC_REG_ID:
    case IOAPIC_REG_ARB: return (uint32_t)s->id << 24;
    case IOAPIC_REG_VERSION: return IOAPIC_VERSION | ((IOAPIC_PINS - 1) << 16);
    default:
        if (s->select < IOAPIC_REG_REDIR || i >= IOAPIC_PINS)
            return 0;
        return (uint32_t)(s->redir[i] >> ((s->select & 1) ? 32 : 0));
    }
}

static void ioapic_reg_write(struct ioapic *s, uint32_t value)
{
    unsigned i = (unsigned)(s->select - IOAPIC_REG_REDIR) / 2;
    uint64_t r;
    if (s->select == IOAPIC_REG_ID)
        s->id = (value >> 24) & 15;
    if (s->select < IOAPIC_REG_REDIR || i >= IOAPIC_PINS)
        return;
    r = s->redir[i];
    if (s->select & 1)
        r = (uint32_t)r | ((uint64_t)(value & 0xFF000000u) << 32);
    else
        r = (r & UINT64_C(0xFFFFFFFF00000000)) | (value & REDIR_LOW_MASK & ~(uint32_t)REDIR_READ_ONLY) | (r & REDIR_READ_ONLY);
    if (!(r & REDIR_LEVEL))
        r &= ~(uint64_t)REDIR_REMOTE_IRR; /* invariant 1; kernels clear a stuck Remote IRR this way */
    s->redir[i] = r;
    ioapic_service_level(s, i);
}

static uint64_t ioapic_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ioapic *s = opaque;
    (void)size;
    switch (offset & 0xFF) {
    case IOAPIC_REGSEL: return s->select;
    case IOAPIC_WINDOW: return ioapic_reg_read(s);
    default: return 0;
    }
}

static void ioapic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ioapic *s = opaque;
    (void)size;
    switch (offset & 0xFF) {
    case IOAPIC_REGSEL: s->select = (uint8_t)value; break;
    case IOAPIC_WINDOW: ioapic_reg_write(s, (uint32_t)value); break;
    case IOAPIC_EOI: ioapic_end(s, (uint8_t)value); break;
    default: break;
    }
}

static const struct region_ops ioapic_ops = { ioapic_read, ioapic_write, 1, 4, true };

/* ---- the device ---- */

static int ioapic_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ioapic *s = EMU_CONTAINER(dev, struct ioapic, dev);
    (void)opts;
    if (!chipset_get(dev->emu))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(dev->emu)->ioapic = s;
    region_init_io(&s->region, "ioapic", &ioapic_ops, s, 4096);
    return region_add(dev->emu, &dev->emu->memory, &s->region, IOAPIC_BASE, MAP_PRIO_CHIP);
}

static void ioapic_reset(struct device *dev)
{
    struct ioapic *s = EMU_CONTAINER(dev, struct ioapic, dev);
    unsigned i;
    s->select = s->id = 0;
    for (i = 0; i < IOAPIC_PINS; i++)
        s->redir[i] = REDIR_MASKED;
}

static void ioapic_destroy(struct device *dev)
{
    region_remove(dev->emu, &dev->emu->memory, &EMU_CONTAINER(dev, struct ioapic, dev)->region);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->ioapic = NULL;
}

EMU_PRIV void ioapic_print_info(struct emu *e, struct buf *out)
{
    static const char *const modes[8] = { "fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "ExtINT" };
    const struct ioapic *s = chipset_of(e) ? chipset_of(e)->ioapic : NULL;
    unsigned i;
    if (!s)
        return;
    buf_printf(out, "ioapic0: ver=0x%x id=0x%02x sel=0x%02x\n", IOAPIC_VERSION, s->id, s->select);
    for (i = 0; i < IOAPIC_PINS; i++) {
        uint64_t r = s->redir[i];
        buf_printf(out, "  pin %-2u 0x%016" PRIx64 " dest=%u vec=%-3u %s %s %s%s%s%s\n", i, r, (unsigned)(r >> 56), (unsigned)(r & 0xFF),
                   modes[(r >> 8) & 7], (r & REDIR_LEVEL) ? "level" : "edge", (r & REDIR_LOGICAL) ? "logical" : "physical",
                   (r & REDIR_MASKED) ? " masked" : "", (r & REDIR_REMOTE_IRR) ? " remote-irr" : "", ((s->level >> i) & 1) ? " asserted" : "");
    }
}

EMU_PRIV const struct device_class ioapic_class = {
    .name = "ioapic", .bus = "system", .help = "I/O APIC with 24 inputs", .instance_size = sizeof(struct ioapic),
    .create = ioapic_create, .reset = ioapic_reset, .destroy = ioapic_destroy,
};
#undef IOAPIC_BASE

/* ======================================== src/dev/uart.c ======================================== */

/* dev/uart.c - 16550A serial port ("isa-serial").
 *
 * Models     National Semiconductor PC16550D data sheet (June 1995): registers §8, FIFO operation §8.11-8.12, loopback §8.8.
 * Contract   board.c creates one for each -serial: COM1-COM4 at 3F8h/2F8h/3E8h/2E8h, IRQ 4/3/4/3, or iobase=, irq=. Bytes go to and
 *            come from a struct chr; without one, output vanishes and the line is silent.
 * Theory     Nothing is paced by the baud rate: a byte written is offered to chr at once, and THRE follows as soon as chr has it. When
 *            chr is full the bytes wait in the transmitter FIFO (THRE stays 0) until chr calls writable(). Input is taken only as far as the
 *            receiver FIFO has room, so no byte is ever lost. The divisor matters for one thing only: the receiver time-out
 *            interrupt, four characters after the last one moved.
 * Invariants 1. The line is high exactly while uart_cause() names an interrupt that IER enables.
 *            2. rx_count <= 16, and <= 1 with FIFOs off; tx_count likewise.
 *            3. timeout_timer is armed only while the receiver FIFO holds fewer bytes than its trigger level.
 * Missing    OUT2 does not gate the line (neither in QEMU; some guests forget to set it). Parity and framing errors never happen. A break
 *            that the guest sends goes nowhere.
 */

#define UART_FIFO_BYTES 16u
#define UART_CLOCK_HZ 115200 /* 1.8432 MHz / 16 */

enum { UART_IER_RDA = 1, UART_IER_THRE = 2, UART_IER_RLS = 4, UART_IER_MSI = 8 };
enum { /* IIR §8.6 */
    UART_IIR_NONE = 0x01,
    UART_IIR_MSI = 0x00,
    UART_IIR_THRE = 0x02,
    UART_IIR_RDA = 0x04,
    UART_IIR_RLS = 0x06,
    UART_IIR_TIMEOUT = 0x0C,
    UART_IIR_FIFO = 0xC0
};
enum { UART_FCR_ENABLE = 1, UART_FCR_CLEAR_RX = 2, UART_FCR_CLEAR_TX = 4 };
enum { UART_LCR_STOP2 = 4, UART_LCR_PARITY = 8, UART_LCR_DLAB = 0x80 };
enum { UART_MCR_DTR = 1, UART_MCR_RTS = 2, UART_MCR_OUT1 = 4, UART_MCR_OUT2 = 8, UART_MCR_LOOP = 0x10 };
enum { UART_LSR_DR = 1, UART_LSR_OE = 2, UART_LSR_PE = 4, UART_LSR_FE = 8, UART_LSR_BI = 0x10, UART_LSR_THRE = 0x20, UART_LSR_TEMT = 0x40, UART_LSR_FIFO_ERROR = 0x80 };
enum { UART_LSR_ERRORS = UART_LSR_OE | UART_LSR_PE | UART_LSR_FE | UART_LSR_BI };
enum { UART_MSR_DCTS = 1, UART_MSR_DDSR = 2, UART_MSR_TERI = 4, UART_MSR_DDCD = 8, UART_MSR_CTS = 0x10, UART_MSR_DSR = 0x20, UART_MSR_RI = 0x40, UART_MSR_DCD = 0x80 };

struct uart {
    struct device dev;
    struct region ports;
    struct irq irq;
    struct chr *chr;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
    uint16_t divisor;
    bool thre_pending;    /* "transmitter holding register empty" not yet acknowledged */
    bool timeout_pending; /* receiver time-out */
    uint8_t trigger;      /* receiver level, 1 with FIFOs off */
    uint8_t rx[UART_FIFO_BYTES], rx_flags[UART_FIFO_BYTES]; /* flags: LSR error bits that belong to the byte */
    uint8_t rx_head, rx_count;
    uint8_t tx[UART_FIFO_BYTES], tx_head, tx_count;
    uint8_t last_rx; /* what an empty receiver buffer reads */
    struct timer timeout_timer;
};

/* ---- interrupts ---- */

static uint8_t uart_cause(const struct uart *u)
{
    if ((u->ier & UART_IER_RLS) && (u->lsr & UART_LSR_ERRORS))
        return UART_IIR_RLS;
    if ((u->ier & UART_IER_RDA) && u->timeout_pending)
        return UART_IIR_TIMEOUT;
    if ((u->ier & UART_IER_RDA) && u->rx_count && u->rx_count >= u->trigger)
        return UART_IIR_RDA;
    if ((u->ier & UART_IER_THRE) && u->thre_pending)
        return UART_IIR_THRE;
    if ((u->ier & UART_IER_MSI) && (u->msr & 15))
        return UART_IIR_MSI;
    return UART_IIR_NONE;
}

static void uart_update(struct uart *u) { irq_set(&u->irq, uart_cause(u) != UART_IIR_NONE); }

static unsigned uart_capacity(const struct uart *u) { return u->fcr & UART_FCR_ENABLE ? UART_FIFO_BYTES : 1; }

/* ---- receiver ---- */

static int64_t uart_char_ns(const struct uart *u)
{
    unsigned bits = 1 + 5 + (u->lcr & 3) + (u->lcr & UART_LCR_PARITY ? 1 : 0) + (u->lcr & UART_LCR_STOP2 ? 2 : 1);
    return NS_PER_SEC / UART_CLOCK_HZ * (u->divisor ? u->divisor : 1) * bits;
}

/* After each byte that moved: error bits of the byte at the front, time-out, level. */
static void uart_rx_changed(struct uart *u)
{
    unsigned i;
    u->timeout_pending = false;
    timer_cancel(&u->timeout_timer);
    u->lsr &= (uint8_t) ~(UART_LSR_DR | UART_LSR_FIFO_ERROR);
    if (u->rx_count) {
        u->lsr |= UART_LSR_DR;
        u->lsr |= u->rx_flags[u->rx_head];
        u->rx_flags[u->rx_head] = 0;
        for (i = 1; i < u->rx_count; i++)
            if (u->rx_flags[(u->rx_head + i) % UART_FIFO_BYTES])
                u->lsr |= UART_LSR_FIFO_ERROR;
        if ((u->fcr & UART_FCR_ENABLE) && u->rx_count < u->trigger)
            timer_arm(&u->timeout_timer, emu_now_ns(u->dev.emu) + 4 * uart_char_ns(u));
    }
    uart_update(u);
}

static void uart_timeout(void *opaque)
{
    struct uart *u = opaque;
    if (u->rx_count) {
        u->timeout_pending = true;
        uart_update(u);
    }
}

static void uart_rx_put(struct uart *u, uint8_t byte, uint8_t flags)
{
    if (u->rx_count >= uart_capacity(u)) {
        u->lsr |= UART_LSR_OE;
        if (!(u->fcr & UART_FCR_ENABLE)) /* the holding register is overwritten, the FIFO is not (§8.4) */
            u->rx[u->rx_head] = byte;
        uart_update(u);
        return;
    }
    u->rx[(u->rx_head + u->rx_count) % UART_FIFO_BYTES] = byte;
    u->rx_flags[(u->rx_head + u->rx_count) % UART_FIFO_BYTES] = flags;
    u->rx_count++;
}

static size_t uart_can_receive(void *opaque)
{
    const struct uart *u = opaque;
    return u->mcr & UART_MCR_LOOP ? 0 : uart_capacity(u) - u->rx_count;
}

static void uart_receive(void *opaque, const uint8_t *buf, size_t size)
{
    struct uart *u = opaque;
    size_t i;
    for (i = 0; i < size; i++)
        uart_rx_put(u, buf[i], 0);
    uart_rx_changed(u);
}

static void uart_event(void *opaque, enum chr_event event)
{
    struct uart *u = opaque;
    if (event == CHR_BREAK && !(u->mcr & UART_MCR_LOOP)) {
        uart_rx_put(u, 0, UART_LSR_BI);
        uart_rx_changed(u);
    }
}

static uint8_t uart_read_rbr(struct uart *u)
{
    if (u->rx_count) {
        u->last_rx = u->rx[u->rx_head];
        u->rx_head = (uint8_t)((u->rx_head + 1) % UART_FIFO_BYTES);
        u->rx_count--;
        uart_rx_changed(u);
        if (u->chr && !(u->mcr & UART_MCR_LOOP))
            chr_accept_input(u->chr);
    }
    return u->last_rx;
}

static void uart_clear_rx(struct uart *u)
{
    u->rx_head = u->rx_count = 0;
    memset(u->rx_flags, 0, sizeof u->rx_flags);
    uart_rx_changed(u);
}

/* ---- transmitter ---- */

/* Offers the FIFO to chr; the rest waits for uart_writable(). */
static void uart_transmit(struct uart *u)
{
    while (u->tx_count) {
        unsigned n = EMU_MIN(u->tx_count, UART_FIFO_BYTES - u->tx_head);
        int taken = chr_write(u->chr, u->tx + u->tx_head, n);
        if (taken <= 0)
            return;
        u->tx_head = (uint8_t)((u->tx_head + (unsigned)taken) % UART_FIFO_BYTES);
        u->tx_count = (uint8_t)(u->tx_count - (unsigned)taken);
    }
    u->lsr |= UART_LSR_THRE | UART_LSR_TEMT;
    u->thre_pending = true;
}

static void uart_writable(void *opaque)
{
    struct uart *u = opaque;
    if (u->tx_count) {
        uart_transmit(u);
        uart_update(u);
    }
}

static void uart_write_thr(struct uart *u, uint8_t byte)
{
    u->thre_pending = false;
    if (u->mcr & UART_MCR_LOOP) {
        uart_rx_put(u, byte, 0);
        u->thre_pending = true;
        uart_rx_changed(u);
        return;
    }
    if (u->tx_count >= uart_capacity(u)) { /* overwrites the last one, as the chip does */
        u->tx[(u->tx_head + u->tx_count - 1) % UART_FIFO_BYTES] = byte;
    } else {
        u->tx[(u->tx_head + u->tx_count) % UART_FIFO_BYTES] = byte;
        u->tx_count++;
    }
    u->lsr &= (uint8_t) ~(UART_LSR_THRE | UART_LSR_TEMT);
    uart_transmit(u);
    uart_update(u);
}

static void uart_clear_tx(struct uart *u)
{
    u->tx_head = u->tx_count = 0;
    u->lsr |= UART_LSR_THRE | UART_LSR_TEMT;
    u->thre_pending = true;
}

/* ---- modem lines ---- */

/* Outside loopback the line's far end is a null modem that is always there. */
static void uart_update_modem(struct uart *u)
{
    uint8_t now = UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD, changed;
    if (u->mcr & UART_MCR_LOOP)
        now = (uint8_t)((u->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) | (u->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
                        (u->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) | (u->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
    changed = (uint8_t)((now ^ u->msr) >> 4);
    if (now & UART_MSR_RI)
        changed &= (uint8_t)~UART_MSR_TERI; /* trailing edge only */
    u->msr = (uint8_t)(now | (u->msr & 15) | changed);
}

/* ---- registers ---- */

static uint8_t uart_read_iir(struct uart *u)
{
    uint8_t cause = uart_cause(u);
    if (cause == UART_IIR_THRE) {
        u->thre_pending = false;
        uart_update(u);
    }
    return (uint8_t)(cause | (u->fcr & UART_FCR_ENABLE ? UART_IIR_FIFO : 0));
}

static uint64_t uart_read(void *opaque, uint64_t offset, unsigned size)
{
    struct uart *u = opaque;
    uint8_t v;
    (void)size;
    switch (offset) {
    case 0: return u->lcr & UART_LCR_DLAB ? u->divisor & 0xFF : uart_read_rbr(u);
    case 1: return u->lcr & UART_LCR_DLAB ? u->divisor >> 8 : u->ier;
    case 2: return uart_read_iir(u);
    case 3: return u->lcr;
    case 4: return u->mcr;
    case 5:
        v = u->lsr;
        if (u->lsr & UART_LSR_ERRORS) {
            u->lsr &= (uint8_t)~UART_LSR_ERRORS;
            uart_update(u);
        }
        return v;
    case 6:
        v = u->msr;
        u->msr &= 0xF0;
        uart_update(u);
        return v;
    default: return u->scr;
    }
}

static void uart_write_ier(struct uart *u, uint8_t v)
{
    uint8_t risen = v & (uint8_t)~u->ier;
    u->ier = v & 15;
    if ((risen & UART_IER_THRE) && (u->lsr & UART_LSR_THRE))
        u->thre_pending = true; /* enabling it with an empty transmitter interrupts at once */
    uart_update(u);
}

static void uart_write_fcr(struct uart *u, uint8_t v)
{
    static const uint8_t levels[4] = { 1, 4, 8, 14 };
    bool toggled = ((u->fcr ^ v) & UART_FCR_ENABLE) != 0;
    if (!(v & UART_FCR_ENABLE))
        v &= (uint8_t)~0xFE; /* the other bits are programmed only together with bit 0 (§8.5) */
    u->fcr = v & 0xC9;
    u->trigger = v & UART_FCR_ENABLE ? levels[v >> 6] : 1;
    if (toggled || (v & UART_FCR_CLEAR_TX))
        uart_clear_tx(u);
    if (toggled || (v & UART_FCR_CLEAR_RX))
        uart_clear_rx(u);
    else
        uart_rx_changed(u);
    if (u->chr)
        chr_accept_input(u->chr);
}

static void uart_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct uart *u = opaque;
    uint8_t v = (uint8_t)value;
    (void)size;
    switch (offset) {
    case 0:
        if (u->lcr & UART_LCR_DLAB)
            u->divisor = (uint16_t)((u->divisor & 0xFF00) | v);
        else
            uart_write_thr(u, v);
        break;
    case 1:
        if (u->lcr & UART_LCR_DLAB)
            u->divisor = (uint16_t)((u->divisor & 0xFF) | v << 8);
        else
            uart_write_ier(u, v);
        break;
    case 2: uart_write_fcr(u, v); break;
    case 3: u->lcr = v; break;
    case 4: {
        bool left_loop = (u->mcr & UART_MCR_LOOP) && !(v & UART_MCR_LOOP);
        u->mcr = v & 0x1F;
        uart_update_modem(u);
        uart_update(u);
        if (left_loop && u->chr)
            chr_accept_input(u->chr);
        break;
    }
    case 5: /* LSR: for the factory */
    case 6: break; /* MSR: read only here */
    case 7: u->scr = v; break;
    }
}

/* ---- device ---- */

static const struct region_ops uart_ops = { uart_read, uart_write, 1, 1, true };

static void uart_reset(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
    u->divisor = 12; /* 9600; the chip leaves it undefined */
    u->trigger = 1;
    u->lsr = UART_LSR_THRE | UART_LSR_TEMT;
    u->msr = UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD;
    u->rx_head = u->rx_count = u->tx_head = u->tx_count = u->last_rx = 0;
    memset(u->rx_flags, 0, sizeof u->rx_flags);
    u->thre_pending = u->timeout_pending = false;
    timer_cancel(&u->timeout_timer);
    uart_update(u);
    if (u->chr)
        chr_accept_input(u->chr);
}

static int uart_create(struct device *dev, struct options *opts, struct err *err)
{
    static const uint16_t bases[4] = { 0x3F8, 0x2F8, 0x3E8, 0x2E8 };
    static const uint8_t irqs[4] = { 4, 3, 4, 3 };
    struct uart *u = (struct uart *)dev;
    const struct device *other;
    uint64_t index = 0, base, irq;
    const char *chr = options_get(opts, "chardev");
    int r;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls && index < 3)
            index++;
    if (options_u64(opts, "index", 0, 3, &index, err))
        return EMU_EINVAL;
    base = bases[index];
    irq = irqs[index];
    if (options_u64(opts, "iobase", 8, 0xFFF8, &base, err) || options_u64(opts, "irq", 1, 15, &irq, err))
        return EMU_EINVAL;
    if (chr) {
        u->chr = chr_find(dev->emu, chr);
        if (!u->chr)
            return err_set(err, EMU_ENOENT, "%s: there is no -chardev with id=%s", opts->origin, chr);
        if (u->chr->in_use)
            return err_set(err, EMU_EBUSY, "%s: chardev \"%s\" is already used by another device", opts->origin, chr);
        u->chr->in_use = true;
        u->chr->can_receive = uart_can_receive;
        u->chr->receive = uart_receive;
        u->chr->event = uart_event;
        u->chr->writable = uart_writable;
        u->chr->opaque = u;
    }
    timer_init(&u->timeout_timer, dev->emu, uart_timeout, u);
    u->irq = board_gsi(dev->emu, (int)irq);
    r = port_add(dev->emu, &u->ports, "serial", (uint16_t)base, 8, &uart_ops, u);
    if (r)
        return err_set(err, r, "serial port at %#x: ports are taken", (unsigned)base);
    uart_reset(dev);
    return 0;
}

static void uart_destroy(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    timer_cancel(&u->timeout_timer);
    region_remove(dev->emu, &dev->emu->ports, &u->ports);
    if (u->chr) {
        u->chr->can_receive = NULL;
        u->chr->receive = NULL;
        u->chr->event = NULL;
        u->chr->writable = NULL;
        u->chr->in_use = false;
    }
}

static const struct opt_desc uart_options[] = {
    { "chardev", "chardev", "where its bytes go and come from" },
    { "index", "u32", "0-3: COM1 to COM4" },
    { "iobase", "u32", "first port" },
    { "irq", "u32", "interrupt line" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class uart_class = {
    .name = "isa-serial", .bus = "isa", .help = "16550A serial port", .options = uart_options,
    .instance_size = sizeof(struct uart), .create = uart_create, .reset = uart_reset, .destroy = uart_destroy, .user_creatable = true,
};
#undef UART_FIFO_BYTES
#undef UART_CLOCK_HZ

/* ======================================== src/dev/parallel.c ======================================== */

/* dev/parallel.c - standard parallel port (SPP) of a PC ("isa-parallel").
 *
 * Models     IBM PC/AT Technical Reference, "Parallel Adapter"; IEEE 1284-1994 compatibility mode and the PS/2 direction bit.
 * Contract   board.c creates one for each -parallel: LPT1-LPT3 at 378h/278h/3BCh, IRQ 7/5/7. Bytes go to a struct chr.
 * Theory     A byte is sent when the guest ends the strobe pulse (control bit 0 from 1 to 0). The printer then holds BUSY until chr has
 *            taken the byte, and answers with an ACK pulse, which is an interrupt if control bit 4 asks for it.
 * Invariants 1. pending holds a byte exactly while BUSY is shown for want of room.
 * Missing    EPP and ECP. Input from the peripheral: with the direction bit set the data lines read as ones.
 */

enum { /* status, base + 1 */
    PARALLEL_STATUS_ERROR_N = 0x08,
    PARALLEL_STATUS_SELECTED = 0x10,
    PARALLEL_STATUS_ACK_N = 0x40,
    PARALLEL_STATUS_BUSY_N = 0x80
};
enum { /* control, base + 2 */
    PARALLEL_CONTROL_STROBE = 0x01,
    PARALLEL_CONTROL_IRQ = 0x10,
    PARALLEL_CONTROL_INPUT = 0x20,
    PARALLEL_CONTROL_KEPT = 0x3F
};

struct parallel {
    struct device dev;
    struct region ports;
    struct irq irq;
    struct chr *chr;
    uint8_t data, control, pending_byte;
    bool pending;
};

static void parallel_send(struct parallel *p)
{
    p->pending = chr_write(p->chr, &p->pending_byte, 1) <= 0;
    if (!p->pending && (p->control & PARALLEL_CONTROL_IRQ))
        irq_pulse(&p->irq); /* the rising edge of ACK */
}

static void parallel_writable(void *opaque)
{
    struct parallel *p = opaque;
    if (p->pending)
        parallel_send(p);
}

static uint64_t parallel_read(void *opaque, uint64_t offset, unsigned size)
{
    struct parallel *p = opaque;
    (void)size;
    switch (offset) {
    case 0: return p->control & PARALLEL_CONTROL_INPUT ? 0xFF : p->data;
    case 1:
        return PARALLEL_STATUS_ERROR_N | PARALLEL_STATUS_SELECTED | PARALLEL_STATUS_ACK_N |
               (p->pending || (p->control & PARALLEL_CONTROL_STROBE) ? 0 : PARALLEL_STATUS_BUSY_N);
    case 2: return p->control | 0xC0;
    default: return 0xFF;
    }
}

static void parallel_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct parallel *p = opaque;
    uint8_t v = (uint8_t)value, old = p->control;
    (void)size;
    if (offset == 0) {
        p->data = v;
    } else if (offset == 2) {
        p->control = v & PARALLEL_CONTROL_KEPT;
        if ((old & PARALLEL_CONTROL_STROBE) && !(v & PARALLEL_CONTROL_STROBE) && !p->pending) {
            p->pending_byte = p->data;
            parallel_send(p);
        }
    }
}

static const struct region_ops parallel_ops = { parallel_read, parallel_write, 1, 1, true };

static void parallel_reset(struct device *dev)
{
    struct parallel *p = (struct parallel *)dev;
    p->data = 0;
    p->control = 0x0C; /* initialised, selected */
    p->pending = false;
    irq_set(&p->irq, 0);
}

static int parallel_create(struct device *dev, struct options *opts, struct err *err)
{
    static const uint16_t bases[3] = { 0x378, 0x278, 0x3BC };
    static const uint8_t irqs[3] = { 7, 5, 7 };
    struct parallel *p = (struct parallel *)dev;
    const struct device *other;
    uint64_t index = 0, base, irq;
    const char *chr = options_get(opts, "chardev");
    int r;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls && index < 2)
            index++;
    if (options_u64(opts, "index", 0, 2, &index, err))
        return EMU_EINVAL;
    base = bases[index];
    irq = irqs[index];
    if (options_u64(opts, "iobase", 4, 0xFFFC, &base, err) || options_u64(opts, "irq", 1, 15, &irq, err))
        return EMU_EINVAL;
    if (chr) {
        p->chr = chr_find(dev->emu, chr);
        if (!p->chr)
            return err_set(err, EMU_ENOENT, "%s: there is no -chardev with id=%s", opts->origin, chr);
        if (p->chr->in_use)
            return err_set(err, EMU_EBUSY, "%s: chardev \"%s\" is already used by another device", opts->origin, chr);
        p->chr->in_use = true;
        p->chr->writable = parallel_writable;
        p->chr->opaque = p;
    }
    p->irq = board_gsi(dev->emu, (int)irq);
    r = port_add(dev->emu, &p->ports, "parallel", (uint16_t)base, 3, &parallel_ops, p);
    if (r)
        return err_set(err, r, "parallel port at %#x: ports are taken", (unsigned)base);
    parallel_reset(dev);
    return 0;
}

static void parallel_destroy(struct device *dev)
{
    struct parallel *p = (struct parallel *)dev;
    region_remove(dev->emu, &dev->emu->ports, &p->ports);
    if (p->chr) {
        p->chr->writable = NULL;
        p->chr->in_use = false;
    }
}

static const struct opt_desc parallel_options[] = {
    { "chardev", "chardev", "where its bytes go" },
    { "index", "u32", "0-2: LPT1 to LPT3" },
    { "iobase", "u32", "first port" },
    { "irq", "u32", "interrupt line" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class parallel_class = {
    .name = "isa-parallel", .bus = "isa", .help = "parallel port (SPP)", .options = parallel_options,
    .instance_size = sizeof(struct parallel), .create = parallel_create, .reset = parallel_reset, .destroy = parallel_destroy, .user_creatable = true,
};

/* ======================================== src/dev/ps2.c ======================================== */

/* dev/ps2.c - 8042 keyboard controller with a PS/2 keyboard and a PS/2 wheel mouse ("i8042").
 *
 * Models     IBM PS/2 Hardware Interface Technical Reference (Keyboard and Auxiliary Device Controller; Keyboard; Mouse), the 8042
 *            translation of scan code set 2 into set 1, Microsoft's IntelliMouse extensions (3-byte knock to ids 3 and 4).
 * Contract   board.c creates one. Guests reach it through ports 60h and 64h, IRQ 1 and IRQ 12. Keys and movements come from the front
 *            ends through input_key() and input_mouse(); A20 and reset go to the chipset.
 * Theory     One byte at a time sits in the output buffer; ps2_update() fills it when it is empty, first from the controller's own
 *            answers, then from the keyboard, then from the mouse. A device's answer to a command goes before its queued events.
 *            After the guest has read a byte the next event byte comes PS2_BYTE_NS later: interrupt handlers that read port 60h twice
 *            (their own, then the BIOS's behind it) must see the same byte twice, as on the wire's pace they do.
 *              guest reads 60h -> ps2_read_data -> byte_timer -> ps2_update -> OBF, IRQ
 *            The mouse gathers movement while its queue holds a packet, so a slow guest gets few large steps, not a backlog; a change
 *            of buttons is always a packet of its own.
 * Invariants 1. IRQ 1 is high exactly while OBF is set, AUX is not and the mode byte allows it; IRQ 12 likewise with AUX.
 *            2. A scan code sequence or mouse packet is queued whole or not at all.
 * Missing    Typematic repeat: a held key is repeated by the front end, if at all. Scan code set 3 key types (FBh-FDh) are accepted only.
 */

#define PS2_BYTE_NS (200 * NS_PER_US)
#define PS2_QUEUE 256u

enum { /* status, port 64h */
    PS2_STATUS_OBF = 0x01,
    PS2_STATUS_SYS = 0x04,
    PS2_STATUS_COMMAND = 0x08,
    PS2_STATUS_UNLOCKED = 0x10,
    PS2_STATUS_AUX = 0x20
};
enum { /* controller command byte */
    PS2_MODE_KBD_INT = 0x01,
    PS2_MODE_AUX_INT = 0x02,
    PS2_MODE_SYS = 0x04,
    PS2_MODE_KBD_OFF = 0x10,
    PS2_MODE_AUX_OFF = 0x20,
    PS2_MODE_TRANSLATE = 0x40
};
enum { PS2_OUT_RESET_N = 0x01, PS2_OUT_A20 = 0x02, PS2_OUT_OBF = 0x10, PS2_OUT_AUX = 0x20 };
enum { PS2_ACK = 0xFA, PS2_RESEND = 0xFE, PS2_BAT_OK = 0xAA };

struct ps2_queue {
    uint8_t data[PS2_QUEUE];
    unsigned head, count;
};
struct ps2_keyboard {
    struct ps2_queue replies, events;
    uint8_t command; /* waits for its parameter, 0 = none */
    uint8_t set;     /* scan code set, 1-3 */
    uint8_t leds, rate;
    bool scanning;
    bool all_break;  /* set 3: every key sends a break code */
    uint8_t last;    /* for RESEND */
};
struct ps2_mouse {
    struct ps2_queue replies, events;
    uint8_t command;
    uint8_t id; /* 0, 3 wheel, 4 five buttons */
    uint8_t rate, resolution, knock[3];
    bool enabled, remote, wrap, scaling;
    int dx, dy, dz; /* not yet sent; right, up, wheel towards the user */
    uint8_t buttons, sent_buttons; /* bit 0 left, 1 right, 2 middle, 3 and 4 the side ones */
    uint8_t last;
};
struct ps2 {
    struct device dev;
    struct region data_port, command_port;
    struct irq irq1, irq12;
    struct input_sink sink;
    struct timer byte_timer;
    int64_t hold_until_ns; /* next event byte not before this */
    uint8_t status, mode, output, output_port;
    uint8_t command; /* of the controller, waiting for its data byte; 0 = none */
    uint8_t ram[32];
    struct ps2_queue answers; /* the controller's own bytes */
    bool break_prefix;        /* translation has swallowed an F0h */
    struct ps2_keyboard kbd;
    struct ps2_mouse mouse;
};

/* ORDER ps2_translate: index is a set 2 code, value the set 1 code; codes from 85h on stay as they are. */
static const uint8_t ps2_translate[0x85] = {
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59, 0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02,
    0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B, 0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13,
    0x06, 0x5D, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F, 0x6B, 0x33, 0x25, 0x17, 0x18,
    0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61, 0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B,
    0x75, 0x2B, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F, 0x52, 0x53, 0x50,
    0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54,
};
/* Set 3 codes of the plain keys, by set 1 code; 0 = the key does not exist there. */
static const uint8_t ps2_set3[0x59] = {
    0x00, 0x08, 0x16, 0x1E, 0x26, 0x25, 0x2E, 0x36, 0x3D, 0x3E, 0x46, 0x45, 0x4E, 0x55, 0x66, 0x0D, 0x15, 0x1D, 0x24, 0x2D, 0x2C, 0x35, 0x3C,
    0x43, 0x44, 0x4D, 0x54, 0x5B, 0x5A, 0x11, 0x1C, 0x1B, 0x23, 0x2B, 0x34, 0x33, 0x3B, 0x42, 0x4B, 0x4C, 0x52, 0x0E, 0x12, 0x5C, 0x1A, 0x22,
    0x21, 0x2A, 0x32, 0x31, 0x3A, 0x41, 0x49, 0x4A, 0x59, 0x7E, 0x19, 0x29, 0x14, 0x07, 0x0F, 0x17, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x47, 0x4F,
    0x76, 0x5F, 0x6C, 0x75, 0x7D, 0x84, 0x6B, 0x73, 0x74, 0x7C, 0x69, 0x72, 0x7A, 0x70, 0x71, 0x57, 0x00, 0x13, 0x56, 0x5E,
};
static const struct {
    uint8_t set1, set3;
} ps2_set3_extended[] = {
    { 0x1C, 0x79 }, { 0x1D, 0x58 }, { 0x35, 0x4A }, { 0x37, 0x57 }, { 0x38, 0x39 }, { 0x46, 0x62 }, { 0x47, 0x6E }, { 0x48, 0x63 }, { 0x49, 0x6F },
    { 0x4B, 0x61 }, { 0x4D, 0x6A }, { 0x4F, 0x65 }, { 0x50, 0x60 }, { 0x51, 0x6D }, { 0x52, 0x67 }, { 0x53, 0x64 }, { 0x5B, 0x8B }, { 0x5C, 0x8C },
    { 0x5D, 0x8D },
};

static void ps2_put(struct ps2_queue *q, uint8_t byte)
{
    if (q->count < PS2_QUEUE)
        q->data[(q->head + q->count++) % PS2_QUEUE] = byte;
}

/* All of them, or none when the queue is too full (invariant 2). */
static void ps2_put_all(struct ps2_queue *q, const uint8_t *bytes, unsigned n)
{
    unsigned i;
    if (PS2_QUEUE - q->count < n)
        return;
    for (i = 0; i < n; i++)
        ps2_put(q, bytes[i]);
}

static uint8_t ps2_take(struct ps2_queue *q)
{
    uint8_t v = q->data[q->head];
    q->head = (q->head + 1) % PS2_QUEUE;
    q->count--;
    return v;
}

static void ps2_clear(struct ps2_queue *q) { q->head = q->count = 0; }

/* ---- keyboard ---- */

static uint8_t ps2_set2_of(uint8_t set1)
{
    unsigned i;
    for (i = sizeof ps2_translate; i-- > 1;) /* downward: F7 is 83h, not 02h; SysRq is 84h */
        if (ps2_translate[i] == set1)
            return (uint8_t)i;
    return 0;
}

static unsigned ps2_encode_set1(uint8_t *out, uint8_t code, bool extended, bool down)
{
    unsigned n = 0;
    if (extended)
        out[n++] = 0xE0;
    out[n++] = (uint8_t)(code | (down ? 0 : 0x80));
    return n;
}

static unsigned ps2_encode_set2(uint8_t *out, uint8_t code, bool extended, bool down)
{
    unsigned n = 0;
    uint8_t s = ps2_set2_of(code);
    if (!s)
        return 0;
    if (extended)
        out[n++] = 0xE0;
    if (!down)
        out[n++] = 0xF0;
    out[n++] = s;
    return n;
}

static unsigned ps2_encode_set3(const struct ps2_keyboard *k, uint8_t *out, uint8_t code, bool extended, bool down)
{
    unsigned n = 0, i;
    uint8_t s = 0;
    bool modifier = code == 0x1D || code == 0x38 || code == 0x2A || code == 0x36 || code == 0x3A;
    if (extended) {
        for (i = 0; i < EMU_ARRAY_LEN(ps2_set3_extended); i++)
            if (ps2_set3_extended[i].set1 == code)
                s = ps2_set3_extended[i].set3;
    } else if (code < sizeof ps2_set3) {
        s = ps2_set3[code];
    }
    if (!s || (!down && !modifier && !k->all_break))
        return 0;
    if (!down)
        out[n++] = 0xF0;
    out[n++] = s;
    return n;
}

/* Keys whose codes are sequences of their own: Pause and Print Screen. */
static unsigned ps2_encode_special(const struct ps2_keyboard *k, uint8_t *out, int key, bool down)
{
    static const uint8_t pause1[] = { 0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5 };
    static const uint8_t pause2[] = { 0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77 };
    static const uint8_t print1[2][4] = { { 0xE0, 0xB7, 0xE0, 0xAA }, { 0xE0, 0x2A, 0xE0, 0x37 } };
    static const uint8_t print2_make[] = { 0xE0, 0x12, 0xE0, 0x7C };
    static const uint8_t print2_break[] = { 0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12 };
    const uint8_t *from;
    unsigned n;
    if (key == 0xC6 && !down) /* Pause has no break code */
        return 0;
    if (key == 0xC6) {
        from = k->set == 1 ? pause1 : pause2;
        n = k->set == 1 ? sizeof pause1 : sizeof pause2;
    } else if (k->set == 1) {
        from = print1[down];
        n = sizeof print1[0];
    } else {
        from = down ? print2_make : print2_break;
        n = down ? sizeof print2_make : sizeof print2_break;
    }
    memcpy(out, from, n);
    return n;
}

static void ps2_update(struct ps2 *p);

static void ps2_key(void *opaque, int key, bool down)
{
    struct ps2 *p = opaque;
    struct ps2_keyboard *k = &p->kbd;
    uint8_t bytes[8], code = (uint8_t)(key & 0x7F);
    bool extended = (key & 0x80) != 0;
    unsigned n;
    if (!k->scanning || !code)
        return;
    if ((key == 0xC6 || key == 0xB7) && k->set != 3)
        n = ps2_encode_special(k, bytes, key, down);
    else if (k->set == 1)
        n = ps2_encode_set1(bytes, code, extended, down);
    else if (k->set == 2)
        n = ps2_encode_set2(bytes, code, extended, down);
    else
        n = ps2_encode_set3(k, bytes, code, extended, down);
    ps2_put_all(&k->events, bytes, n);
    ps2_update(p);
}

static void ps2_keyboard_defaults(struct ps2_keyboard *k)
{
    k->set = 2;
    k->rate = 0x2B; /* 10.9 characters a second after 500 ms */
    k->all_break = false;
    k->command = 0;
    ps2_clear(&k->events);
}

static void ps2_keyboard_parameter(struct ps2_keyboard *k, uint8_t v)
{
    uint8_t command = k->command;
    k->command = 0;
    ps2_put(&k->replies, PS2_ACK);
    switch (command) {
    case 0xED: k->leds = v & 7; break;
    case 0xF0:
        if (!v)
            ps2_put(&k->replies, k->set);
        else if (v <= 3)
            k->set = v;
        ps2_clear(&k->events);
        break;
    case 0xF3: k->rate = v & 0x7F; break;
    default: k->command = command; break; /* FBh-FDh: a list of keys, ended by the next command */
    }
}

static void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t v)
{
    ps2_clear(&k->replies);
    if (k->command && v < 0xED) {
        ps2_keyboard_parameter(k, v);
        return;
    }
    k->command = 0;
    switch (v) {
    case 0xEE: ps2_put(&k->replies, 0xEE); break;
    case 0xED:
    case 0xF0:
    case 0xF3:
    case 0xFB:
    case 0xFC:
    case 0xFD:
        k->command = v;
        ps2_put(&k->replies, PS2_ACK);
        break;
    case 0xF2:
        ps2_put(&k->replies, PS2_ACK);
        ps2_put(&k->replies, 0xAB); /* MF2 keyboard */
        ps2_put(&k->replies, 0x83);
        break;
    case 0xF4:
    case 0xF5:
    case 0xF6:
        if (v == 0xF4)
            ps2_clear(&k->events);
        else
            ps2_keyboard_defaults(k);
        k->scanning = v != 0xF5;
        ps2_put(&k->replies, PS2_ACK);
        break;
    case 0xF7:
    case 0xF8:
    case 0xF9:
    case 0xFA:
        k->all_break = v == 0xF8 || v == 0xFA;
        ps2_put(&k->replies, PS2_ACK);
        break;
    case 0xFE: ps2_put(&k->replies, k->last); break;
    case 0xFF:
        ps2_keyboard_defaults(k);
        k->leds = 0;
        k->scanning = true;
        ps2_put(&k->replies, PS2_ACK);
        ps2_put(&k->replies, PS2_BAT_OK);
        break;
    default: ps2_put(&k->replies, PS2_RESEND); break;
    }
}

/* ---- mouse ---- */

static int ps2_clamp(int v) { return v > 127 ? 127 : v < -127 ? -127 : v; }

static void ps2_mouse_packet(struct ps2_mouse *m, struct ps2_queue *q)
{
    uint8_t bytes[4];
    int dx = ps2_clamp(m->dx), dy = ps2_clamp(m->dy), dz = m->dz > 7 ? 7 : m->dz < -7 ? -7 : m->dz;
    unsigned n = 3;
    bytes[0] = (uint8_t)(0x08 | (m->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0));
    bytes[1] = (uint8_t)(dx & 0xFF);
    bytes[2] = (uint8_t)(dy & 0xFF);
    if (m->id == 3)
        bytes[n++] = (uint8_t)(dz & 0xFF);
    else if (m->id == 4)
        bytes[n++] = (uint8_t)((dz & 15) | (m->buttons & 0x18) << 1);
    m->dx -= dx;
    m->dy -= dy;
    m->dz = m->id ? m->dz - dz : 0;
    m->sent_buttons = m->buttons;
    ps2_put_all(q, bytes, n);
}

/* Stream mode: a packet when there is something to say and the last one has been fetched. */
static void ps2_mouse_stream(struct ps2_mouse *m)
{
    if (m->enabled && !m->remote && !m->wrap && !m->events.count && (m->dx || m->dy || m->dz || m->buttons != m->sent_buttons))
        ps2_mouse_packet(m, &m->events);
}

static void ps2_mouse_moved(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    struct ps2 *p = opaque;
    struct ps2_mouse *m = &p->mouse;
    const int far = 4096; /* a guest that stops reading does not get an endless slide afterwards */
    if (!m->enabled && !m->remote)
        return;
    m->dx = EMU_MAX(EMU_MIN(m->dx + dx, far), -far);
    m->dy = EMU_MAX(EMU_MIN(m->dy - dy, far), -far);
    m->dz = EMU_MAX(EMU_MIN(m->dz - dz, far), -far); /* dz counts away from the user, the wire towards him */
    if (m->sent_buttons != (uint8_t)(buttons & 0x1F) && m->enabled && !m->remote && !m->wrap && PS2_QUEUE - m->events.count >= 4) {
        m->buttons = (uint8_t)(buttons & 0x1F);
        ps2_mouse_packet(m, &m->events);
    }
    m->buttons = (uint8_t)(buttons & 0x1F);
    ps2_mouse_stream(m);
    ps2_update(p);
}

static void ps2_mouse_defaults(struct ps2_mouse *m)
{
    m->rate = 100;
    m->resolution = 2; /* 4 counts a millimetre */
    m->enabled = m->remote = m->wrap = m->scaling = false;
    m->dx = m->dy = m->dz = 0;
    m->command = 0;
    ps2_clear(&m->events);
}

/* Three rates in a row change the mouse's kind: 200, 100, 80 a wheel; 200, 200, 80 (then) five buttons. */
static void ps2_mouse_knock(struct ps2_mouse *m, uint8_t rate)
{
    m->knock[0] = m->knock[1];
    m->knock[1] = m->knock[2];
    m->knock[2] = rate;
    if (m->knock[0] == 200 && m->knock[1] == 100 && m->knock[2] == 80 && m->id < 3)
        m->id = 3;
    else if (m->knock[0] == 200 && m->knock[1] == 200 && m->knock[2] == 80)
        m->id = 4;
}

static void ps2_mouse_status(struct ps2_mouse *m)
{
    ps2_put(&m->replies, (uint8_t)((m->remote ? 0x40 : 0) | (m->enabled ? 0x20 : 0) | (m->scaling ? 0x10 : 0) | (m->buttons & 1 ? 4 : 0) |
                                   (m->buttons & 4 ? 2 : 0) | (m->buttons & 2 ? 1 : 0)));
    ps2_put(&m->replies, m->resolution);
    ps2_put(&m->replies, m->rate);
}

static void ps2_mouse_write(struct ps2_mouse *m, uint8_t v)
{
    ps2_clear(&m->replies);
    if (m->wrap && v != 0xFF && v != 0xEC) { /* echo mode */
        ps2_put(&m->replies, v);
        return;
    }
    if (m->command) {
        if (m->command == 0xF3) {
            m->rate = v;
            ps2_mouse_knock(m, v);
        } else {
            m->resolution = v & 3;
        }
        m->command = 0;
        ps2_put(&m->replies, PS2_ACK);
        return;
    }
    ps2_put(&m->replies, PS2_ACK);
    switch (v) {
    case 0xE6: m->scaling = false; break;
    case 0xE7: m->scaling = true; break;
    case 0xE8:
    case 0xF3: m->command = v; break;
    case 0xE9: ps2_mouse_status(m); break;
    case 0xEA: m->remote = false; break;
    case 0xEB: ps2_mouse_packet(m, &m->replies); break;
    case 0xEC: m->wrap = false; break;
    case 0xEE: m->wrap = true; break;
    case 0xF0: m->remote = true; break;
    case 0xF2: ps2_put(&m->replies, m->id); break;
    case 0xF4: m->enabled = true; break;
    case 0xF5:
        m->enabled = false;
        ps2_clear(&m->events);
        break;
    case 0xF6: ps2_mouse_defaults(m); break;
    case 0xFE:
        ps2_clear(&m->replies);
        ps2_put(&m->replies, m->last);
        break;
    case 0xFF:
        ps2_mouse_defaults(m);
        m->id = 0;
        memset(m->knock, 0, sizeof m->knock);
        ps2_put(&m->replies, PS2_BAT_OK);
        ps2_put(&m->replies, 0x00);
        break;
    default:
        ps2_clear(&m->replies);
        ps2_put(&m->replies, PS2_RESEND);
        break;
    }
}

/* ---- controller: output buffer ---- */

static void ps2_update_irq(struct ps2 *p)
{
    bool full = (p->status & PS2_STATUS_OBF) != 0, aux = (p->status & PS2_STATUS_AUX) != 0;
    irq_set(&p->irq1, full && !aux && (p->mode & PS2_MODE_KBD_INT));
    irq_set(&p->irq12, full && aux && (p->mode & PS2_MODE_AUX_INT));
}

static void ps2_load(struct ps2 *p, uint8_t byte, bool aux)
{
    p->output = byte;
    p->status = (uint8_t)((p->status & ~PS2_STATUS_AUX) | PS2_STATUS_OBF | (aux ? PS2_STATUS_AUX : 0));
}

/* The next byte of the keyboard, translated if the mode byte says so; false: there is none. */
static bool ps2_keyboard_byte(struct ps2 *p, uint8_t *out)
{
    struct ps2_keyboard *k = &p->kbd;
    while (k->replies.count || k->events.count) {
        uint8_t v = ps2_take(k->replies.count ? &k->replies : &k->events);
        k->last = v;
        if (p->mode & PS2_MODE_TRANSLATE) {
            if (v == 0xF0) {
                p->break_prefix = true;
                continue;
            }
            if (v < sizeof ps2_translate)
                v = ps2_translate[v];
            if (p->break_prefix)
                v |= 0x80;
            p->break_prefix = false;
        }
        *out = v;
        return true;
    }
    return false;
}

static void ps2_update(struct ps2 *p)
{
    uint8_t v;
    if (p->status & PS2_STATUS_OBF)
        return;
    if (p->answers.count) {
        ps2_load(p, ps2_take(&p->answers), false);
    } else {
        bool kbd = !(p->mode & PS2_MODE_KBD_OFF) && (p->kbd.replies.count || p->kbd.events.count);
        bool aux = !(p->mode & PS2_MODE_AUX_OFF) && (p->mouse.replies.count || p->mouse.events.count);
        if (!kbd && !aux)
            return;
        if (emu_now_ns(p->dev.emu) < p->hold_until_ns) {
            timer_arm(&p->byte_timer, p->hold_until_ns);
            return;
        }
        if (kbd && ps2_keyboard_byte(p, &v)) {
            ps2_load(p, v, false);
        } else if (aux) {
            v = ps2_take(p->mouse.replies.count ? &p->mouse.replies : &p->mouse.events);
            p->mouse.last = v;
            ps2_load(p, v, true);
            ps2_mouse_stream(&p->mouse);
        }
    }
    ps2_update_irq(p);
}

static void ps2_byte_time(void *opaque) { ps2_update(opaque); }

static uint64_t ps2_read_data(void *opaque, uint64_t offset, unsigned size)
{
    struct ps2 *p = opaque;
    uint8_t v = p->output;
    (void)offset, (void)size;
    if (p->status & PS2_STATUS_OBF) {
        p->status &= (uint8_t) ~(PS2_STATUS_OBF | PS2_STATUS_AUX);
        ps2_update_irq(p);
        p->hold_until_ns = emu_now_ns(p->dev.emu) + PS2_BYTE_NS;
        ps2_update(p);
    }
    return v;
}

static uint64_t ps2_read_status(void *opaque, uint64_t offset, unsigned size)
{
    (void)offset, (void)size;
    return ((struct ps2 *)opaque)->status;
}

/* ---- controller: commands ---- */

static void ps2_write_output_port(struct ps2 *p, uint8_t v)
{
    p->output_port = v;
    chipset_set_a20(p->dev.emu, (v & PS2_OUT_A20) != 0);
    if (!(v & PS2_OUT_RESET_N))
        emu_request(p->dev.emu, REQ_RESET);
}

static uint8_t ps2_read_output_port(const struct ps2 *p)
{
    uint8_t v = (uint8_t)((p->output_port & ~(PS2_OUT_A20 | PS2_OUT_OBF | PS2_OUT_AUX)) | PS2_OUT_RESET_N);
    if (chipset_get_a20(p->dev.emu))
        v |= PS2_OUT_A20;
    if (p->status & PS2_STATUS_OBF)
        v |= p->status & PS2_STATUS_AUX ? PS2_OUT_AUX : PS2_OUT_OBF;
    return v;
}

static void ps2_set_mode(struct ps2 *p, uint8_t v)
{
    p->mode = p->ram[0] = v;
    p->status = (uint8_t)((p->status & ~PS2_STATUS_SYS) | (v & PS2_MODE_SYS));
    ps2_update_irq(p);
    ps2_update(p);
}

static void ps2_answer(struct ps2 *p, uint8_t v)
{
    ps2_put(&p->answers, v);
    ps2_update(p);
}

static void ps2_write_command(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ps2 *p = opaque;
    uint8_t v = (uint8_t)value;
    (void)offset, (void)size;
    p->status |= PS2_STATUS_COMMAND;
    p->command = 0;
    if (v >= 0x20 && v <= 0x3F) {
        ps2_answer(p, v == 0x20 ? p->mode : p->ram[v & 0x1F]);
        return;
    }
    if (v >= 0xF0) { /* pulses output lines low where a bit is 0: only the reset line is wired */
        if (!(v & 1))
            emu_request(p->dev.emu, REQ_RESET);
        return;
    }
    switch (v) {
    case 0xA4: ps2_answer(p, 0xF1); break; /* no password */
    case 0xA7: ps2_set_mode(p, p->mode | PS2_MODE_AUX_OFF); break;
    case 0xA8: ps2_set_mode(p, p->mode & (uint8_t)~PS2_MODE_AUX_OFF); break;
    case 0xA9: ps2_answer(p, 0x00); break;
    case 0xAA:
        p->status |= PS2_STATUS_SYS;
        p->mode |= PS2_MODE_SYS;
        ps2_answer(p, 0x55);
        break;
    case 0xAB: ps2_answer(p, 0x00); break;
    case 0xAD: ps2_set_mode(p, p->mode | PS2_MODE_KBD_OFF); break;
    case 0xAE: ps2_set_mode(p, p->mode & (uint8_t)~PS2_MODE_KBD_OFF); break;
    case 0xC0: ps2_answer(p, 0x80); break; /* keyboard not locked */
    case 0xD0: ps2_answer(p, ps2_read_output_port(p)); break;
    case 0xDD: chipset_set_a20(p->dev.emu, false); break; /* HP Vectra's short forms, widely used */
    case 0xDF: chipset_set_a20(p->dev.emu, true); break;
    case 0xE0: ps2_answer(p, 0x00); break;
    case 0xD1:
    case 0xD2:
    case 0xD3:
    case 0xD4: p->command = v; break;
    default:
        if (v >= 0x60 && v <= 0x7F)
            p->command = v;
        else
            emu_log(p->dev.emu, LOG_GUEST_ERROR, "i8042: command %#x is unknown", v);
    }
}

static void ps2_write_data(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ps2 *p = opaque;
    uint8_t v = (uint8_t)value, command = p->command;
    (void)offset, (void)size;
    p->status &= (uint8_t)~PS2_STATUS_COMMAND;
    p->command = 0;
    switch (command) {
    case 0: /* to the keyboard; the clock line is released for it, which enables the interface */
        p->mode &= (uint8_t)~PS2_MODE_KBD_OFF;
        p->break_prefix = false;
        ps2_keyboard_write(&p->kbd, v);
        p->hold_until_ns = 0;
        break;
    case 0x60: ps2_set_mode(p, v); return;
    case 0xD1: ps2_write_output_port(p, v); return;
    case 0xD2: ps2_answer(p, v); return;
    case 0xD3: /* as if the mouse had sent it */
        ps2_put(&p->mouse.replies, v);
        p->hold_until_ns = 0;
        break;
    case 0xD4:
        p->mode &= (uint8_t)~PS2_MODE_AUX_OFF;
        ps2_mouse_write(&p->mouse, v);
        p->hold_until_ns = 0;
        break;
    default: p->ram[command & 0x1F] = v; return;
    }
    ps2_update(p);
}

/* ---- device ---- */

static const struct region_ops ps2_data_ops = { ps2_read_data, ps2_write_data, 1, 1, true };
static const struct region_ops ps2_command_ops = { ps2_read_status, ps2_write_command, 1, 1, true };

static void ps2_reset(struct device *dev)
{
    struct ps2 *p = (struct ps2 *)dev;
    timer_cancel(&p->byte_timer);
    p->hold_until_ns = 0;
    p->status = PS2_STATUS_COMMAND | PS2_STATUS_UNLOCKED;
    p->mode = PS2_MODE_KBD_INT | PS2_MODE_AUX_INT | PS2_MODE_TRANSLATE;
    p->output = p->command = 0;
    p->output_port = PS2_OUT_RESET_N;
    p->break_prefix = false;
    memset(p->ram, 0, sizeof p->ram);
    memset(&p->answers, 0, sizeof p->answers);
    memset(&p->kbd, 0, sizeof p->kbd);
    memset(&p->mouse, 0, sizeof p->mouse);
    ps2_keyboard_defaults(&p->kbd);
    p->kbd.scanning = true;
    ps2_mouse_defaults(&p->mouse);
    ps2_update_irq(p);
}

static int ps2_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ps2 *p = (struct ps2 *)dev;
    int r;
    (void)opts;
    timer_init(&p->byte_timer, dev->emu, ps2_byte_time, p);
    p->irq1 = board_gsi(dev->emu, 1);
    p->irq12 = board_gsi(dev->emu, 12);
    r = port_add(dev->emu, &p->data_port, "i8042 data", 0x60, 1, &ps2_data_ops, p);
    if (!r)
        r = port_add(dev->emu, &p->command_port, "i8042 command", 0x64, 1, &ps2_command_ops, p);
    if (r)
        return err_set(err, r, "i8042: ports 60h and 64h are taken");
    ps2_reset(dev);
    p->sink.key = ps2_key;
    p->sink.mouse = ps2_mouse_moved;
    p->sink.opaque = p;
    input_add(dev->emu, &p->sink);
    return 0;
}

static void ps2_destroy(struct device *dev)
{
    struct ps2 *p = (struct ps2 *)dev;
    struct input_sink **link;
    timer_cancel(&p->byte_timer);
    region_remove(dev->emu, &dev->emu->ports, &p->data_port);
    region_remove(dev->emu, &dev->emu->ports, &p->command_port);
    for (link = &dev->emu->inputs; *link; link = &(*link)->next)
        if (*link == &p->sink) {
            *link = p->sink.next;
            break;
        }
}

EMU_PRIV const struct device_class ps2_class = {
    .name = "i8042", .bus = "isa", .help = "keyboard controller with PS/2 keyboard and wheel mouse",
    .instance_size = sizeof(struct ps2), .create = ps2_create, .reset = ps2_reset, .destroy = ps2_destroy,
};
#undef PS2_BYTE_NS
#undef PS2_QUEUE

/* ======================================== src/dev/ata.c ======================================== */

/* dev/ata.c - an ATA hard disk ("ide-hd").
 *
 * Models     ATA/ATAPI-6 (T13 1410D): register and PIO/DMA protocols, 28- and 48-bit addressing, write cache, SMART; DATA SET
 *            MANAGEMENT (TRIM) from ATA8-ACS-2; CHS translation by INITIALIZE DEVICE PARAMETERS from ATA-5 for old systems.
 * Contract   Attaches to a channel of ide.c and answers its commands through the helpers of ide.h. Data lives in a struct blk.
 * Theory     A transfer command sets lba, left and how data moves, then alternates between a block request and windows:
 *
 *              read:   ata_read_more --blk--> ata_read_filled --window--> ata_read_taken --+--> ata_read_more | done
 *              write:  ata_write_more --window--> ata_write_filled --blk--> ata_write_stored --+--> ata_write_more | done
 *
 *            PIO reads fetch up to a buffer ahead; DRQ blocks are then cut from it. When such a fetch fails it is repeated
 *            sector by sector, so that the task file names the bad one.
 * Invariants 1. lba + left <= sectors while a transfer is under way.
 *            2. A write is reported done only when blk has it; with the write cache off or FUA, only after a flush.
 * Missing    Security, HPA and DCO, queued commands, streaming, firmware download: aborted, as their IDENTIFY bits say.
 *            SMART keeps no history.
 */

#define ATA_MAX_MULTIPLE 16u
#define ATA_BUF_SECTORS (IDE_BUF_BYTES / IDE_SECTOR_BYTES)
#define ATA_RANGE_BYTES 8u

enum ata_command { /* ATA/ATAPI-6 table A.2 */
    ATA_NOP = 0x00,
    ATA_DATA_SET_MANAGEMENT = 0x06,
    ATA_RECALIBRATE = 0x10, /* 10h-1Fh */
    ATA_READ_SECTORS = 0x20,
    ATA_READ_SECTORS_NO_RETRY = 0x21,
    ATA_READ_SECTORS_EXT = 0x24,
    ATA_READ_DMA_EXT = 0x25,
    ATA_READ_NATIVE_MAX_EXT = 0x27,
    ATA_READ_MULTIPLE_EXT = 0x29,
    ATA_WRITE_SECTORS = 0x30,
    ATA_WRITE_SECTORS_NO_RETRY = 0x31,
    ATA_WRITE_SECTORS_EXT = 0x34,
    ATA_WRITE_DMA_EXT = 0x35,
    ATA_WRITE_MULTIPLE_EXT = 0x39,
    ATA_WRITE_DMA_FUA_EXT = 0x3D,
    ATA_VERIFY = 0x40,
    ATA_VERIFY_NO_RETRY = 0x41,
    ATA_VERIFY_EXT = 0x42,
    ATA_SEEK = 0x70, /* 70h-7Fh */
    ATA_INIT_PARAMETERS = 0x91,
    ATA_OLD_STANDBY_IMMEDIATE = 0x94,
    ATA_OLD_IDLE_IMMEDIATE = 0x95,
    ATA_OLD_STANDBY = 0x96,
    ATA_OLD_IDLE = 0x97,
    ATA_OLD_CHECK_POWER = 0x98,
    ATA_OLD_SLEEP = 0x99,
    ATA_SMART = 0xB0,
    ATA_READ_MULTIPLE = 0xC4,
    ATA_WRITE_MULTIPLE = 0xC5,
    ATA_SET_MULTIPLE = 0xC6,
    ATA_READ_DMA = 0xC8,
    ATA_READ_DMA_NO_RETRY = 0xC9,
    ATA_WRITE_DMA = 0xCA,
    ATA_WRITE_DMA_NO_RETRY = 0xCB,
    ATA_WRITE_MULTIPLE_FUA_EXT = 0xCE,
    ATA_STANDBY_IMMEDIATE = 0xE0,
    ATA_IDLE_IMMEDIATE = 0xE1,
    ATA_STANDBY = 0xE2,
    ATA_IDLE = 0xE3,
    ATA_CHECK_POWER = 0xE5,
    ATA_SLEEP = 0xE6,
    ATA_FLUSH = 0xE7,
    ATA_FLUSH_EXT = 0xEA,
    ATA_IDENTIFY = 0xEC,
    ATA_SET_FEATURES = 0xEF,
    ATA_READ_NATIVE_MAX = 0xF8
};
enum { ATA_DEVICE_LBA = 0x40 };

struct ata_disk {
    struct ide_drive ide;
    uint64_t sectors;
    char serial[21], model[41];
    uint16_t cylinders, heads, sectors_per_track;       /* default translation */
    uint16_t now_cylinders, now_heads, now_per_track;   /* as INITIALIZE DEVICE PARAMETERS set it */
    uint8_t multiple;                                   /* sectors per DRQ block of the MULTIPLE commands; 0 = off */
    uint8_t mwdma, udma;                                /* selected mode as a bit, 0 = none */
    bool write_cache, look_ahead, smart, standby;

    /* the command under way */
    uint64_t lba;
    uint32_t left;    /* sectors not yet moved */
    uint32_t fetched; /* of them, in buf: read commands */
    uint32_t taken;   /* of fetched, already handed over */
    uint32_t block;   /* sectors per DRQ block */
    uint32_t window;  /* sectors in the present window or write request */
    bool ext, dma, fua, single, chs, first_block;
    uint32_t ranges, range; /* TRIM: number of entries in buf, present one */
};

static struct ata_disk *ata_of(struct ide_drive *d) { return (struct ata_disk *)d; }

/* ---- address registers ---- */

static void ata_put_address(struct ata_disk *a, uint64_t lba)
{
    struct ide_drive *d = &a->ide;
    unsigned i;
    if (a->chs) {
        uint64_t track = lba / a->now_per_track;
        d->lba[0] = (uint8_t)(lba % a->now_per_track + 1);
        d->device = (uint8_t)((d->device & 0xF0) | (track % a->now_heads));
        d->lba[1] = (uint8_t)(track / a->now_heads);
        d->lba[2] = (uint8_t)((track / a->now_heads) >> 8);
        return;
    }
    for (i = 0; i < 3; i++)
        d->lba[i] = (uint8_t)(lba >> (8 * i));
    if (a->ext)
        for (i = 0; i < 3; i++)
            d->hob_lba[i] = (uint8_t)(lba >> (24 + 8 * i));
    else
        d->device = (uint8_t)((d->device & 0xF0) | ((lba >> 24) & 15));
}

static void ata_fail_at(struct ata_disk *a, uint64_t lba, uint8_t error)
{
    ata_put_address(a, lba);
    a->ide.count = (uint8_t)a->left;
    if (a->ext)
        a->ide.hob_count = (uint8_t)(a->left >> 8);
    ide_fail(&a->ide, error);
}

static void ata_done(struct ata_disk *a, bool interrupt)
{
    ata_put_address(a, a->lba - (a->lba ? 1 : 0));
    a->ide.count = a->ide.hob_count = 0;
    if (interrupt)
        ide_finish(&a->ide);
    else
        ide_idle(&a->ide); /* PIO data-in: the last block had its interrupt */
}

/* Takes address and count from the task file; false: the command was failed. */
static bool ata_get_address(struct ata_disk *a, bool ext)
{
    struct ide_drive *d = &a->ide;
    a->ext = ext;
    a->chs = false;
    a->single = a->fua = a->dma = false;
    a->fetched = a->taken = 0;
    a->first_block = true;
    a->left = d->count;
    if (ext) {
        a->lba = d->lba[0] | (uint32_t)d->lba[1] << 8 | (uint32_t)d->lba[2] << 16 | (uint64_t)d->hob_lba[0] << 24 |
                 (uint64_t)d->hob_lba[1] << 32 | (uint64_t)d->hob_lba[2] << 40;
        a->left |= (uint32_t)d->hob_count << 8;
        if (!a->left)
            a->left = 0x10000;
    } else {
        if (!a->left)
            a->left = 0x100;
        if (d->device & ATA_DEVICE_LBA) {
            a->lba = d->lba[0] | (uint32_t)d->lba[1] << 8 | (uint32_t)d->lba[2] << 16 | (uint32_t)(d->device & 15) << 24;
        } else {
            uint32_t cylinder = d->lba[1] | (uint32_t)d->lba[2] << 8, head = d->device & 15, sector = d->lba[0];
            if (!sector || sector > a->now_per_track || head >= a->now_heads) {
                ide_fail(d, IDE_ERROR_IDNF);
                return false;
            }
            a->chs = true;
            a->lba = ((uint64_t)cylinder * a->now_heads + head) * a->now_per_track + sector - 1;
        }
    }
    if (a->lba >= a->sectors || a->left > a->sectors - a->lba) { /* keeps invariant 1 */
        ata_fail_at(a, a->lba >= a->sectors ? a->lba : a->sectors, IDE_ERROR_IDNF);
        return false;
    }
    return true;
}

/* ---- reads ---- */

static void ata_read_more(struct ide_drive *d);

static void ata_read_taken(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    a->taken += a->window;
    a->lba += a->window;
    a->left -= a->window;
    if (!a->left)
        ata_done(a, a->dma);
    else if (a->dma)
        ata_read_more(d);
    else
        ide_gap(d, ata_read_more);
}

static void ata_read_window(struct ata_disk *a)
{
    uint32_t here = a->fetched - a->taken;
    a->window = a->dma ? here : EMU_MIN(here, a->block);
    if (a->dma)
        ide_dma(&a->ide, true, a->taken * IDE_SECTOR_BYTES, a->window * IDE_SECTOR_BYTES, ata_read_taken);
    else
        ide_pio_in(&a->ide, a->taken * IDE_SECTOR_BYTES, a->window * IDE_SECTOR_BYTES, ata_read_taken);
}

static void ata_read_filled(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (!result) {
        ata_read_window(a);
    } else if (a->fetched > 1) { /* find the bad sector */
        a->single = true;
        a->fetched = a->taken = 0;
        ata_read_more(d);
    } else {
        ata_fail_at(a, a->lba, IDE_ERROR_UNC);
    }
}

static void ata_read_more(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    if (a->taken < a->fetched) {
        ata_read_window(a);
        return;
    }
    a->taken = 0;
    a->fetched = a->single ? 1 : EMU_MIN(a->left, ATA_BUF_SECTORS);
    ide_io(d, BLK_READ, a->lba * IDE_SECTOR_BYTES, 0, (uint64_t)a->fetched * IDE_SECTOR_BYTES, ata_read_filled);
}

static void ata_read(struct ata_disk *a, bool ext, uint32_t block, bool dma)
{
    if (!block) { /* READ MULTIPLE before SET MULTIPLE MODE */
        ide_fail(&a->ide, IDE_ERROR_ABRT);
        return;
    }
    if (!ata_get_address(a, ext))
        return;
    a->block = block;
    a->dma = dma;
    ata_read_more(&a->ide);
}

/* ---- writes ---- */

static void ata_write_more(struct ide_drive *d);

static void ata_write_flushed(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result)
        ata_fail_at(a, a->lba - 1, IDE_ERROR_ABRT);
    else
        ata_done(a, true);
}

static void ata_write_stored(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result) {
        emu_log(d->dev.emu, LOG_GUEST_ERROR, "%s: writing sector %" PRIu64 " failed: %s", d->blk->id, a->lba, emu_strerror(result));
        ata_fail_at(a, a->lba, IDE_ERROR_ABRT);
        return;
    }
    a->lba += a->window;
    a->left -= a->window;
    if (a->left)
        ata_write_more(d);
    else if (a->fua || !a->write_cache) /* invariant 2 */
        ide_io(d, BLK_FLUSH, 0, 0, 0, ata_write_flushed);
    else
        ata_done(a, true);
}

static void ata_write_filled(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    ide_io(d, BLK_WRITE, a->lba * IDE_SECTOR_BYTES, 0, (uint64_t)a->window * IDE_SECTOR_BYTES, ata_write_stored);
}

static void ata_write_more(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    bool first = a->first_block;
    a->first_block = false;
    a->window = EMU_MIN(a->left, a->dma ? ATA_BUF_SECTORS : a->block);
    if (a->dma)
        ide_dma(d, false, 0, a->window * IDE_SECTOR_BYTES, ata_write_filled);
    else
        ide_pio_out(d, 0, a->window * IDE_SECTOR_BYTES, !first, ata_write_filled);
}

static void ata_write(struct ata_disk *a, bool ext, uint32_t block, bool dma, bool fua)
{
    if (!block || a->ide.blk->read_only) {
        ide_fail(&a->ide, IDE_ERROR_ABRT);
        return;
    }
    if (!ata_get_address(a, ext))
        return;
    a->block = block;
    a->dma = dma;
    a->fua = fua;
    ata_write_more(&a->ide);
}

/* ---- flush, verify, trim ---- */

static void ata_flushed(struct ide_drive *d, int result)
{
    if (result)
        ide_fail(d, IDE_ERROR_ABRT);
    else
        ide_finish(d);
}

static void ata_verify_more(struct ide_drive *d);

static void ata_verified(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result && a->window > 1) {
        a->single = true;
        ata_verify_more(d);
    } else if (result) {
        ata_fail_at(a, a->lba, IDE_ERROR_UNC);
    } else {
        a->lba += a->window;
        a->left -= a->window;
        if (a->left)
            ata_verify_more(d);
        else
            ata_done(a, true);
    }
}

static void ata_verify_more(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    a->window = a->single ? 1 : EMU_MIN(a->left, ATA_BUF_SECTORS);
    ide_io(d, BLK_READ, a->lba * IDE_SECTOR_BYTES, 0, (uint64_t)a->window * IDE_SECTOR_BYTES, ata_verified);
}

static void ata_trim_next(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result && result != EMU_ENOTSUP) { /* advice: a disk that cannot give the space back has still done its duty */
        ide_fail(d, IDE_ERROR_ABRT);
        return;
    }
    while (a->range < a->ranges) {
        uint64_t entry = ld64le(d->buf + ATA_RANGE_BYTES * a->range++), lba = entry & UINT64_C(0xFFFFFFFFFFFF), n = entry >> 48;
        if (!n)
            continue;
        if (lba >= a->sectors || n > a->sectors - lba) {
            ide_fail(d, IDE_ERROR_IDNF | IDE_ERROR_ABRT);
            return;
        }
        ide_io(d, BLK_DISCARD, lba * IDE_SECTOR_BYTES, 0, n * IDE_SECTOR_BYTES, ata_trim_next);
        return;
    }
    ide_finish(d);
}

static void ata_trim_filled(struct ide_drive *d) { ata_trim_next(d, 0); }

static void ata_data_set_management(struct ata_disk *a)
{
    struct ide_drive *d = &a->ide;
    uint32_t blocks = d->count | (uint32_t)d->hob_count << 8;
    if (!(d->feature & 1) || !blocks || blocks > ATA_BUF_SECTORS || d->blk->read_only) {
        ide_fail(d, IDE_ERROR_ABRT);
        return;
    }
    a->ranges = blocks * IDE_SECTOR_BYTES / ATA_RANGE_BYTES;
    a->range = 0;
    ide_dma(d, false, 0, blocks * IDE_SECTOR_BYTES, ata_trim_filled);
}

/* ---- IDENTIFY DEVICE ---- */

static void ata_word(uint8_t *p, unsigned word, unsigned v) { st16le(p + 2 * word, (uint16_t)v); }

static void ata_sum_block(uint8_t *p) /* last byte: two's complement of the sum of the others */
{
    unsigned i;
    uint8_t sum = 0;
    for (i = 0; i < IDE_SECTOR_BYTES - 1; i++)
        sum = (uint8_t)(sum + p[i]);
    p[IDE_SECTOR_BYTES - 1] = (uint8_t)(0x100 - sum);
}

static void ata_identify_features(const struct ata_disk *a, uint8_t *p)
{
    unsigned w83 = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10; /* FLUSH EXT, FLUSH, 48-bit */
    ata_word(p, 80, 0xF0);                               /* ATA/ATAPI-4 to -7: Linux believes TRIM from 7 on */
    ata_word(p, 82, 1 << 14 | 1 << 6 | 1 << 5 | 1);      /* NOP, look-ahead, write cache, SMART */
    ata_word(p, 83, w83);
    ata_word(p, 84, 1 << 14 | 1 << 6);                   /* FUA */
    ata_word(p, 85, 1u << 14 | (a->look_ahead ? 1u << 6 : 0) | (a->write_cache ? 1u << 5 : 0) | (a->smart ? 1u : 0));
    ata_word(p, 86, w83 & ~(1u << 14));
    ata_word(p, 87, 1 << 14 | 1 << 6);
    ata_word(p, 88, 0x3F | (unsigned)a->udma << 8);
    ata_word(p, 93, 1 << 14 | 1 << 13 | 1 | (a->ide.unit ? 0x0100 : 0)); /* reset passed; 80-conductor cable seen */
}

static void ata_identify(struct ata_disk *a)
{
    uint8_t *p = a->ide.buf;
    uint32_t small = (uint32_t)EMU_MIN(a->sectors, 0x0FFFFFFFu);
    uint32_t current = (uint32_t)a->now_cylinders * a->now_heads * a->now_per_track;
    memset(p, 0, IDE_SECTOR_BYTES);
    ata_word(p, 0, 0x0040); /* fixed drive */
    ata_word(p, 1, a->cylinders);
    ata_word(p, 3, a->heads);
    ata_word(p, 6, a->sectors_per_track);
    ide_put_string(p + 2 * 10, 20, a->serial);
    ata_word(p, 20, 3);
    ata_word(p, 21, IDE_BUF_BYTES / IDE_SECTOR_BYTES);
    ata_word(p, 22, 4);
    ide_put_string(p + 2 * 23, 8, EMU_VERSION);
    ide_put_string(p + 2 * 27, 40, a->model);
    ata_word(p, 47, 0x8000 | ATA_MAX_MULTIPLE);
    ata_word(p, 48, 1);                            /* 32-bit data port accesses */
    ata_word(p, 49, 1 << 11 | 1 << 9 | 1 << 8);    /* IORDY, LBA, DMA */
    ata_word(p, 50, 1 << 14);
    ata_word(p, 51, 0x200);
    ata_word(p, 52, 0x200);
    ata_word(p, 53, 7); /* words 54-58, 64-70 and 88 are valid */
    ata_word(p, 54, a->now_cylinders);
    ata_word(p, 55, a->now_heads);
    ata_word(p, 56, a->now_per_track);
    st32le(p + 2 * 57, current);
    ata_word(p, 59, a->multiple ? 0x100u | a->multiple : 0);
    st32le(p + 2 * 60, small);
    ata_word(p, 63, 7 | (unsigned)a->mwdma << 8);
    ata_word(p, 64, 3); /* PIO modes 3 and 4 */
    ata_word(p, 65, 120);
    ata_word(p, 66, 120);
    ata_word(p, 67, 120);
    ata_word(p, 68, 120);
    ata_identify_features(a, p);
    st64le(p + 2 * 100, a->sectors);
    ata_word(p, 105, ATA_BUF_SECTORS); /* blocks of one DATA SET MANAGEMENT */
    ata_word(p, 106, 1 << 14);
    ata_word(p, 169, 1); /* TRIM */
    ata_word(p, 217, 1); /* no rotating medium */
    p[510] = 0xA5;
    ata_sum_block(p);
    a->dma = false;
}

static void ata_block_read_end(struct ide_drive *d) { ide_idle(d); }

static void ata_send_block(struct ide_drive *d) { ide_pio_in(d, 0, IDE_SECTOR_BYTES, ata_block_read_end); }

/* ---- SET FEATURES, SMART, parameters ---- */

static bool ata_set_transfer_mode(struct ata_disk *a, uint8_t mode)
{
    switch (mode >> 3) {
    case 0: return mode <= 1;       /* PIO default */
    case 1: return (mode & 7) <= 4; /* PIO with flow control */
    case 4:
        if ((mode & 7) > 2)
            return false;
        a->mwdma = (uint8_t)(1 << (mode & 7));
        a->udma = 0;
        return true;
    case 8:
        if ((mode & 7) > 5)
            return false;
        a->udma = (uint8_t)(1 << (mode & 7));
        a->mwdma = 0;
        return true;
    }
    return false;
}

static void ata_set_features(struct ata_disk *a)
{
    struct ide_drive *d = &a->ide;
    switch (d->feature) {
    case 0x02: a->write_cache = true; break;
    case 0x82:
        a->write_cache = false;
        ide_io(d, BLK_FLUSH, 0, 0, 0, ata_flushed);
        return;
    case 0x55: a->look_ahead = false; break;
    case 0xAA: a->look_ahead = true; break;
    case 0x03:
        if (!ata_set_transfer_mode(a, d->count)) {
            ide_fail(d, IDE_ERROR_ABRT);
            return;
        }
        break;
    case 0x66: /* keep settings over a soft reset: it is what this drive does */
    case 0xCC: break;
    default: ide_fail(d, IDE_ERROR_ABRT); return;
    }
    ide_finish(d);
}

static void ata_smart_data(struct ata_disk *a, bool thresholds)
{
    uint8_t *p = a->ide.buf;
    memset(p, 0, IDE_SECTOR_BYTES);
    st16le(p, 0x10);
    p[2] = 9; /* one attribute: power-on hours */
    if (!thresholds) {
        st16le(p + 3, 0x0003);
        p[5] = p[6] = 100;
        st32le(p + 7, (uint32_t)(emu_now_ns(a->ide.dev.emu) / (3600 * NS_PER_SEC)));
        p[362] = 0x02;           /* off-line collection done */
        st16le(p + 364, 60);
        st16le(p + 368, 0x0003); /* saves attributes */
        p[370] = 0x01;           /* error logging */
    }
    ata_sum_block(p);
    ata_send_block(&a->ide);
}

static void ata_smart(struct ata_disk *a)
{
    struct ide_drive *d = &a->ide;
    bool known = true;
    if (d->lba[1] != 0x4F || d->lba[2] != 0xC2 || (!a->smart && d->feature != 0xD8)) {
        ide_fail(d, IDE_ERROR_ABRT);
        return;
    }
    switch (d->feature) {
    case 0xD0: ata_smart_data(a, false); return;
    case 0xD1: ata_smart_data(a, true); return;
    case 0xD2: break; /* autosave */
    case 0xD4: break; /* off-line test: done */
    case 0xD5:        /* logs: directory, summary error, self-test; all without an entry */
        if ((d->lba[0] == 0 || d->lba[0] == 1 || d->lba[0] == 6) && d->count == 1) {
            memset(d->buf, 0, IDE_SECTOR_BYTES);
            d->buf[0] = 1;
            if (d->lba[0])
                ata_sum_block(d->buf);
            ata_send_block(d);
            return;
        }
        known = false;
        break;
    case 0xD8: a->smart = true; break;
    case 0xD9: a->smart = false; break;
    case 0xDA: break; /* status: the key stays as it was, no threshold exceeded */
    default: known = false;
    }
    if (known)
        ide_finish(d);
    else
        ide_fail(d, IDE_ERROR_ABRT);
}

static void ata_set_translation(struct ata_disk *a, uint16_t heads, uint16_t per_track)
{
    uint64_t cylinders = a->sectors / ((uint32_t)heads * per_track);
    a->now_heads = heads;
    a->now_per_track = per_track;
    a->now_cylinders = (uint16_t)EMU_MIN(cylinders, 65535);
}

static void ata_native_max(struct ata_disk *a, bool ext)
{
    uint64_t last = a->sectors - 1;
    a->ext = ext;
    a->chs = false;
    ata_put_address(a, ext ? last : EMU_MIN(last, 0x0FFFFFFEu));
    ide_finish(&a->ide);
}

static void ata_verify(struct ata_disk *a, bool ext)
{
    if (ata_get_address(a, ext))
        ata_verify_more(&a->ide);
}

/* ---- command dispatch ---- */

static void ata_power_command(struct ata_disk *a, uint8_t command)
{
    switch (command) {
    case ATA_CHECK_POWER:
    case ATA_OLD_CHECK_POWER: a->ide.count = a->standby ? 0x00 : 0xFF; break;
    case ATA_IDLE:
    case ATA_OLD_IDLE:
    case ATA_IDLE_IMMEDIATE:
    case ATA_OLD_IDLE_IMMEDIATE: a->standby = false; break;
    default: a->standby = true; break;
    }
    ide_finish(&a->ide);
}

static void ata_control_command(struct ata_disk *a, uint8_t command)
{
    struct ide_drive *d = &a->ide;
    switch (command) {
    case ATA_DATA_SET_MANAGEMENT: ata_data_set_management(a); return;
    case ATA_IDENTIFY:
        ata_identify(a);
        ata_send_block(d);
        return;
    case ATA_SET_FEATURES: ata_set_features(a); return;
    case ATA_SMART: ata_smart(a); return;
    case ATA_FLUSH:
    case ATA_FLUSH_EXT: ide_io(d, BLK_FLUSH, 0, 0, 0, ata_flushed); return;
    case ATA_SET_MULTIPLE:
        if (d->count > ATA_MAX_MULTIPLE || (d->count & (d->count - 1))) {
            ide_fail(d, IDE_ERROR_ABRT);
            return;
        }
        a->multiple = d->count;
        break;
    case ATA_INIT_PARAMETERS:
        if (!d->count) {
            ide_fail(d, IDE_ERROR_ABRT);
            return;
        }
        ata_set_translation(a, (uint16_t)((d->device & 15) + 1), d->count);
        break;
    case ATA_READ_NATIVE_MAX: ata_native_max(a, false); return;
    case ATA_READ_NATIVE_MAX_EXT: ata_native_max(a, true); return;
    case ATA_OLD_STANDBY_IMMEDIATE:
    case ATA_OLD_IDLE_IMMEDIATE:
    case ATA_OLD_STANDBY:
    case ATA_OLD_IDLE:
    case ATA_OLD_CHECK_POWER:
    case ATA_OLD_SLEEP:
    case ATA_STANDBY_IMMEDIATE:
    case ATA_IDLE_IMMEDIATE:
    case ATA_STANDBY:
    case ATA_IDLE:
    case ATA_CHECK_POWER:
    case ATA_SLEEP: ata_power_command(a, command); return;
    default:
        if ((command & 0xF0) == ATA_RECALIBRATE || (command & 0xF0) == ATA_SEEK)
            break;
        emu_log(d->dev.emu, command == ATA_NOP ? LOG_TRACE : LOG_UNIMP, "ide-hd: command %#x aborted", command);
        ide_fail(d, IDE_ERROR_ABRT); /* NOP too: its contract is to abort */
        return;
    }
    ide_finish(d);
}

static void ata_command(struct ide_drive *d, uint8_t command)
{
    struct ata_disk *a = ata_of(d);
    switch (command) {
    case ATA_READ_SECTORS:
    case ATA_READ_SECTORS_NO_RETRY: ata_read(a, false, 1, false); break;
    case ATA_READ_SECTORS_EXT: ata_read(a, true, 1, false); break;
    case ATA_READ_MULTIPLE: ata_read(a, false, a->multiple, false); break;
    case ATA_READ_MULTIPLE_EXT: ata_read(a, true, a->multiple, false); break;
    case ATA_READ_DMA:
    case ATA_READ_DMA_NO_RETRY: ata_read(a, false, 1, true); break;
    case ATA_READ_DMA_EXT: ata_read(a, true, 1, true); break;
    case ATA_WRITE_SECTORS:
    case ATA_WRITE_SECTORS_NO_RETRY: ata_write(a, false, 1, false, false); break;
    case ATA_WRITE_SECTORS_EXT: ata_write(a, true, 1, false, false); break;
    case ATA_WRITE_MULTIPLE: ata_write(a, false, a->multiple, false, false); break;
    case ATA_WRITE_MULTIPLE_EXT: ata_write(a, true, a->multiple, false, false); break;
    case ATA_WRITE_MULTIPLE_FUA_EXT: ata_write(a, true, a->multiple, false, true); break;
    case ATA_WRITE_DMA:
    case ATA_WRITE_DMA_NO_RETRY: ata_write(a, false, 1, true, false); break;
    case ATA_WRITE_DMA_EXT: ata_write(a, true, 1, true, false); break;
    case ATA_WRITE_DMA_FUA_EXT: ata_write(a, true, 1, true, true); break;
    case ATA_VERIFY:
    case ATA_VERIFY_NO_RETRY: ata_verify(a, false); break;
    case ATA_VERIFY_EXT: ata_verify(a, true); break;
    default: ata_control_command(a, command); return; /* does not spin up a drive in standby */
    }
    a->standby = false;
}

static void ata_signature(struct ide_drive *d)
{
    d->count = d->lba[0] = 1;
    d->lba[1] = d->lba[2] = 0;
    d->status = IDE_DRDY | IDE_DSC;
}

/* ---- device ---- */

static const struct ide_drive_ops ata_ops = { ata_command, ata_signature, false };

static void ata_reset(struct device *dev)
{
    struct ata_disk *a = (struct ata_disk *)dev;
    a->multiple = 0;
    a->mwdma = 0;
    a->udma = 1 << 5;
    a->write_cache = a->look_ahead = a->smart = true;
    a->standby = false;
    ata_set_translation(a, a->heads, a->sectors_per_track);
}

/* Serial numbers count the hard disks of the machine: the first gets 1. */
static unsigned ata_count_before(const struct device *dev)
{
    const struct device *other;
    unsigned n = 1;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls)
            n++;
    return n;
}

static int ata_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ata_disk *a = (struct ata_disk *)dev;
    const char *text;
    uint64_t cylinders;
    int r = ide_attach(&a->ide, &ata_ops, opts, err);
    if (r)
        return r;
    a->sectors = EMU_MIN(a->ide.blk->size_bytes / IDE_SECTOR_BYTES, UINT64_C(1) << 48);
    if (!a->ide.blk->image || !a->sectors) {
        r = err_set(err, EMU_EINVAL, "%s: drive \"%s\" has no medium or an empty one", opts->origin, a->ide.blk->id);
        ide_detach(&a->ide);
        return r;
    }
    text = options_get(opts, "serial");
    if (text)
        snprintf(a->serial, sizeof a->serial, "%s", text);
    else
        snprintf(a->serial, sizeof a->serial, "EM%05u", ata_count_before(dev));
    text = options_get(opts, "model");
    snprintf(a->model, sizeof a->model, "%s", text ? text : "EMU HARDDISK");
    cylinders = a->sectors / (16 * 63); /* ATA-5 annex B */
    a->heads = 16;
    a->sectors_per_track = 63;
    a->cylinders = (uint16_t)(cylinders > 16383 ? 16383 : cylinders < 1 ? 1 : cylinders);
    ata_reset(dev);
    ata_signature(&a->ide);
    return 0;
}

static void ata_destroy(struct device *dev) { ide_detach(&((struct ata_disk *)dev)->ide); }

static const struct opt_desc ata_options[] = {
    { "drive", "drive", "the drive that holds the data" },
    { "bus", "str", "ide.0 or ide.1" },
    { "unit", "u32", "0 master, 1 slave" },
    { "serial", "str", "serial number, up to 20 characters" },
    { "model", "str", "model name, up to 40 characters" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class ata_class = {
    .name = "ide-hd", .bus = "ide", .help = "ATA hard disk", .options = ata_options,
    .instance_size = sizeof(struct ata_disk), .create = ata_create, .reset = ata_reset, .destroy = ata_destroy, .user_creatable = true,
};
#undef ATA_MAX_MULTIPLE
#undef ATA_BUF_SECTORS
#undef ATA_RANGE_BYTES

/* ======================================== src/dev/atapi.c ======================================== */

/* dev/atapi.c - an ATAPI CD-ROM/DVD-ROM drive ("ide-cd").
 *
 * Models     ATA/ATAPI-6 (T13 1410D) §9.8-9.10 for the packet protocol, MMC-3 and SPC-2 for the commands, SFF-8020i for what old
 *            drivers expect. One data track, one session, 2048-byte sectors of a raw image.
 * Contract   Attaches to a channel of ide.c like a disk. The medium is blk's image; blk->tray_open and blk->locked are this
 *            drive's to change; blk calls media_changed after `change` and `eject`.
 * Theory     PACKET asks for twelve bytes (atapi_packet_filled), a command then either ends (atapi_good, atapi_check) or puts its
 *            answer into buf and lets atapi_continue() hand it out: in DRQ blocks of at most the byte count limit, or by DMA.
 *            Reads refill buf from blk each time it runs empty:
 *
 *              atapi_continue --data in buf--> window --> atapi_continue
 *                             --blocks left--> ide_io --> atapi_filled --> atapi_continue
 *                             --nothing left--> atapi_good
 * Invariants 1. at <= filled <= IDE_BUF_BYTES; blocks_left counts blocks not yet asked of blk.
 *            2. A unit attention is reported once, by the first command that may report it.
 * Missing    Audio, multi-session, subchannels, writing: such commands end in "invalid command" or "invalid field".
 */

#define ATAPI_BLOCK 2048u
#define ATAPI_RAW_BLOCK 2352u
#define ATAPI_PACKET_BYTES 12u
#define ATAPI_CD_MAX_BLOCKS 360000u /* 80 minutes of 75 blocks a second: what is bigger must be a DVD */
#define ATAPI_FRAMES_PER_SECOND 75u
#define ATAPI_LEAD_IN 150u /* MSF addresses begin two seconds before block 0 */

enum { ATAPI_PACKET = 0xA0, ATAPI_IDENTIFY_PACKET = 0xA1, ATAPI_NOP = 0x00, ATAPI_READ_SECTORS = 0x20, ATAPI_IDENTIFY = 0xEC };
enum { ATAPI_REASON_CD = 1, ATAPI_REASON_IO = 2 }; /* interrupt reason: command packet; to the host */
enum atapi_sense { ATAPI_SENSE_NONE = 0, ATAPI_SENSE_NOT_READY = 2, ATAPI_SENSE_MEDIUM = 3, ATAPI_SENSE_ILLEGAL = 5, ATAPI_SENSE_ATTENTION = 6, ATAPI_SENSE_ABORTED = 11 };
enum { /* additional sense code << 8 | qualifier */
    ATAPI_ASC_NONE = 0,
    ATAPI_ASC_READ_ERROR = 0x1100,
    ATAPI_ASC_INVALID_COMMAND = 0x2000,
    ATAPI_ASC_OUT_OF_RANGE = 0x2100,
    ATAPI_ASC_INVALID_FIELD = 0x2400,
    ATAPI_ASC_MEDIUM_CHANGED = 0x2800,
    ATAPI_ASC_SAVING_PARAMETERS = 0x3900,
    ATAPI_ASC_NO_MEDIUM = 0x3A00,
    ATAPI_ASC_REMOVAL_PREVENTED = 0x5302
};
enum mmc_op { /* SPC-2, MMC-3 */
    MMC_TEST_UNIT_READY = 0x00,
    MMC_REQUEST_SENSE = 0x03,
    MMC_INQUIRY = 0x12,
    MMC_MODE_SENSE_6 = 0x1A,
    MMC_START_STOP = 0x1B,
    MMC_PREVENT_ALLOW = 0x1E,
    MMC_READ_CAPACITY = 0x25,
    MMC_READ_10 = 0x28,
    MMC_SEEK_10 = 0x2B,
    MMC_SYNCHRONIZE_CACHE = 0x35,
    MMC_READ_TOC = 0x43,
    MMC_GET_CONFIGURATION = 0x46,
    MMC_GET_EVENT_STATUS = 0x4A,
    MMC_READ_DISC_INFO = 0x51,
    MMC_READ_TRACK_INFO = 0x52,
    MMC_MODE_SENSE_10 = 0x5A,
    MMC_READ_12 = 0xA8,
    MMC_SET_CD_SPEED = 0xBB,
    MMC_MECHANISM_STATUS = 0xBD,
    MMC_READ_CD = 0xBE
};
enum atapi_media_event { ATAPI_MEDIA_NO_CHANGE = 0, ATAPI_MEDIA_EJECT_REQUEST = 1, ATAPI_MEDIA_NEW = 2, ATAPI_MEDIA_REMOVED = 3 };

struct atapi_drive {
    struct ide_drive ide;
    char serial[21], model[41];
    uint8_t packet[ATAPI_PACKET_BYTES];
    uint8_t sense_key;
    uint16_t sense_code;
    bool attention;      /* the medium changed and nobody was told */
    uint8_t event;       /* enum atapi_media_event for GET EVENT STATUS NOTIFICATION */
    bool dma;
    uint8_t mwdma, udma;
    uint32_t limit;      /* byte count limit of the PACKET command */
    uint32_t at, filled; /* answer: next byte in buf, end */
    uint32_t lba;        /* next block to read */
    uint32_t blocks_left;
    bool raw;            /* READ CD of whole 2352-byte sectors */
};

static struct atapi_drive *atapi_of(struct ide_drive *d) { return (struct atapi_drive *)d; }

/* ---- medium ---- */

static bool atapi_ready(const struct atapi_drive *a) { return a->ide.blk->image && !a->ide.blk->tray_open; }

static uint32_t atapi_blocks(const struct atapi_drive *a)
{
    uint64_t n = a->ide.blk->size_bytes / ATAPI_BLOCK;
    return n > 0xFFFFFFFFu ? 0xFFFFFFFFu : (uint32_t)n;
}

static bool atapi_is_dvd(const struct atapi_drive *a) { return atapi_blocks(a) > ATAPI_CD_MAX_BLOCKS; }

static void atapi_media_changed(void *opaque)
{
    struct atapi_drive *a = opaque;
    a->attention = atapi_ready(a);
    a->event = a->attention ? ATAPI_MEDIA_NEW : ATAPI_MEDIA_REMOVED;
}

/* ---- ends of a command ---- */

static void atapi_good(struct atapi_drive *a)
{
    a->ide.count = ATAPI_REASON_CD | ATAPI_REASON_IO;
    ide_finish(&a->ide);
}

static void atapi_check(struct atapi_drive *a, enum atapi_sense key, unsigned code)
{
    a->sense_key = (uint8_t)key;
    a->sense_code = (uint16_t)code;
    a->ide.count = ATAPI_REASON_CD | ATAPI_REASON_IO;
    ide_fail(&a->ide, (uint8_t)(key << 4 | (key == ATAPI_SENSE_ILLEGAL || key == ATAPI_SENSE_ABORTED ? IDE_ERROR_ABRT : 0)));
}

static void atapi_bad_field(struct atapi_drive *a) { atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_INVALID_FIELD); }

/* ---- data to the host ---- */

static void atapi_continue(struct ide_drive *d);

/* Sector header and mode byte of a raw sector (ECMA-130 §14, §21); its error correction bytes are left zero. */
static void atapi_make_raw(uint8_t *to, const uint8_t *from, uint32_t lba)
{
    uint32_t frame = lba + ATAPI_LEAD_IN, msf[3];
    unsigned i;
    memmove(to + 16, from, ATAPI_BLOCK);
    memset(to + 16 + ATAPI_BLOCK, 0, ATAPI_RAW_BLOCK - 16 - ATAPI_BLOCK);
    memset(to, 0xFF, 12);
    to[0] = to[11] = 0;
    msf[0] = frame / (60 * ATAPI_FRAMES_PER_SECOND);
    msf[1] = frame / ATAPI_FRAMES_PER_SECOND % 60;
    msf[2] = frame % ATAPI_FRAMES_PER_SECOND;
    for (i = 0; i < 3; i++)
        to[12 + i] = (uint8_t)((msf[i] / 10 % 10) << 4 | msf[i] % 10);
    to[15] = 1;
}

static void atapi_filled(struct ide_drive *d, int result)
{
    struct atapi_drive *a = atapi_of(d);
    uint32_t n = (uint32_t)(d->request.size / ATAPI_BLOCK);
    if (result) {
        atapi_check(a, ATAPI_SENSE_MEDIUM, ATAPI_ASC_READ_ERROR);
        return;
    }
    a->at = 0;
    if (a->raw) { /* spread from the buffer's end to its beginning: the target never overtakes the source */
        uint32_t i, from = IDE_BUF_BYTES - n * ATAPI_BLOCK;
        for (i = 0; i < n; i++)
            atapi_make_raw(d->buf + i * ATAPI_RAW_BLOCK, d->buf + from + i * ATAPI_BLOCK, a->lba + i);
        a->filled = n * ATAPI_RAW_BLOCK;
    } else {
        a->filled = n * ATAPI_BLOCK;
    }
    a->lba += n;
    a->blocks_left -= n;
    atapi_continue(d);
}

static void atapi_fill(struct atapi_drive *a)
{
    uint32_t most = a->raw ? IDE_BUF_BYTES / ATAPI_RAW_BLOCK / 2 : IDE_BUF_BYTES / ATAPI_BLOCK;
    uint32_t n = EMU_MIN(a->blocks_left, most);
    uint32_t where = a->raw ? IDE_BUF_BYTES - n * ATAPI_BLOCK : 0;
    if (!atapi_ready(a)) { /* taken out between two parts */
        atapi_check(a, ATAPI_SENSE_NOT_READY, ATAPI_ASC_NO_MEDIUM);
        return;
    }
    ide_io(&a->ide, BLK_READ, (uint64_t)a->lba * ATAPI_BLOCK, where, (uint64_t)n * ATAPI_BLOCK, atapi_filled);
}

static void atapi_continue(struct ide_drive *d)
{
    struct atapi_drive *a = atapi_of(d);
    uint32_t n = a->filled - a->at, start = a->at;
    if (!n && a->blocks_left) {
        atapi_fill(a);
        return;
    }
    if (!n) {
        atapi_good(a);
        return;
    }
    d->count = ATAPI_REASON_IO;
    if (a->dma) {
        a->at += n;
        ide_dma(d, true, start, n, atapi_continue);
        return;
    }
    n = EMU_MIN(n, a->limit);
    a->at += n;
    d->lba[1] = (uint8_t)n;
    d->lba[2] = (uint8_t)(n >> 8);
    ide_pio_in(d, start, n, atapi_continue);
}

/* Hands out the first size bytes of buf, but not more than the host allocated. */
static void atapi_reply(struct atapi_drive *a, uint32_t size, uint32_t allocated)
{
    a->at = 0;
    a->filled = EMU_MIN(size, allocated);
    a->blocks_left = 0;
    atapi_continue(&a->ide);
}

static uint8_t *atapi_answer(struct atapi_drive *a, uint32_t size) { return memset(a->ide.buf, 0, size); }

/* ---- commands ---- */

static void atapi_request_sense(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 18);
    if (a->attention && a->sense_key == ATAPI_SENSE_NONE) {
        a->attention = false;
        a->sense_key = ATAPI_SENSE_ATTENTION;
        a->sense_code = ATAPI_ASC_MEDIUM_CHANGED;
    }
    p[0] = 0x70; /* current error, fixed format */
    p[2] = a->sense_key;
    p[7] = 10;
    p[12] = (uint8_t)(a->sense_code >> 8);
    p[13] = (uint8_t)a->sense_code;
    a->sense_key = ATAPI_SENSE_NONE;
    a->sense_code = ATAPI_ASC_NONE;
    atapi_reply(a, 18, a->packet[4]);
}

static void atapi_put_text(uint8_t *p, unsigned size, const char *text)
{
    unsigned i;
    for (i = 0; i < size; i++)
        p[i] = *text ? (uint8_t)*text++ : ' ';
}

static void atapi_inquiry(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 36);
    if (a->packet[1] & 3) { /* vital product data is not kept */
        atapi_bad_field(a);
        return;
    }
    p[0] = 0x05; /* CD/DVD device */
    p[1] = 0x80; /* removable */
    p[3] = 0x21; /* ATAPI-2, response format 1 */
    p[4] = 31;
    atapi_put_text(p + 8, 8, "EMU");
    atapi_put_text(p + 16, 16, "EMU DVD-ROM");
    atapi_put_text(p + 32, 4, EMU_VERSION);
    atapi_reply(a, 36, ld16be(a->packet + 3));
}

static void atapi_read(struct atapi_drive *a, uint32_t lba, uint32_t n, bool raw)
{
    uint32_t total = atapi_blocks(a);
    if (lba >= total || n > total - lba) {
        if (n || lba > total) {
            atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_OUT_OF_RANGE);
            return;
        }
    }
    a->lba = lba;
    a->blocks_left = n;
    a->raw = raw;
    a->at = a->filled = 0;
    atapi_continue(&a->ide);
}

static void atapi_read_cd(struct atapi_drive *a)
{
    uint32_t n = (uint32_t)a->packet[6] << 16 | ld16be(a->packet + 7);
    switch (a->packet[9] & 0xF8) {
    case 0x00: atapi_good(a); break;
    case 0x10: atapi_read(a, ld32be(a->packet + 2), n, false); break; /* user data */
    case 0xF8: atapi_read(a, ld32be(a->packet + 2), n, true); break;  /* everything */
    default: atapi_bad_field(a); break;
    }
}

static void atapi_start_stop(struct atapi_drive *a)
{
    bool start = (a->packet[4] & 1) != 0, load_eject = (a->packet[4] & 2) != 0;
    struct blk *b = a->ide.blk;
    if (load_eject && !start) {
        if (b->locked && !b->tray_open) {
            atapi_check(a, b->image ? ATAPI_SENSE_ILLEGAL : ATAPI_SENSE_NOT_READY, ATAPI_ASC_REMOVAL_PREVENTED);
            return;
        }
        b->tray_open = true;
        a->attention = false;
    } else if (load_eject && b->tray_open) {
        b->tray_open = false;
        atapi_media_changed(a);
    }
    atapi_good(a);
}

static void atapi_capacity(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 8);
    uint32_t total = atapi_blocks(a);
    st32be(p, total ? total - 1 : 0);
    st32be(p + 4, ATAPI_BLOCK);
    atapi_reply(a, 8, 8);
}

/* An address as block number or as minute, second, frame. */
static void atapi_put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (msf) {
        uint32_t f = lba + ATAPI_LEAD_IN;
        p[0] = 0;
        p[1] = (uint8_t)(f / (60 * ATAPI_FRAMES_PER_SECOND));
        p[2] = (uint8_t)(f / ATAPI_FRAMES_PER_SECOND % 60);
        p[3] = (uint8_t)(f % ATAPI_FRAMES_PER_SECOND);
    } else {
        st32be(p, lba);
    }
}

static uint8_t *atapi_toc_track(uint8_t *p, uint8_t track, uint32_t lba, bool msf)
{
    p[1] = 0x14; /* ADR 1, data track */
    p[2] = track;
    atapi_put_address(p + 4, lba, msf);
    return p + 8;
}

/* Raw TOC entry (MMC-3 table 332): point, and its address; the running time fields are zero. */
static uint8_t *atapi_toc_point(uint8_t *p, uint8_t point, uint8_t minute, uint8_t second, uint8_t frame)
{
    p[0] = 1;    /* session */
    p[1] = 0x14;
    p[3] = point;
    p[8] = minute;
    p[9] = second;
    p[10] = frame;
    return p + 11;
}

static void atapi_read_toc(struct atapi_drive *a)
{
    bool msf = (a->packet[1] & 2) != 0;
    unsigned format = a->packet[2] & 15, start = a->packet[6];
    uint8_t *base = atapi_answer(a, 64), *p = base + 4, out[4];
    if (!format)
        format = a->packet[9] >> 6; /* where SFF-8020i had it */
    base[2] = base[3] = 1; /* first and last track or session */
    switch (format) {
    case 0:
        if (start > 1 && start != 0xAA) {
            atapi_bad_field(a);
            return;
        }
        if (start <= 1)
            p = atapi_toc_track(p, 1, 0, msf);
        p = atapi_toc_track(p, 0xAA, atapi_blocks(a), msf);
        break;
    case 1: p = atapi_toc_track(p, 1, 0, msf); break;
    case 2:
        atapi_put_address(out, atapi_blocks(a), true);
        p = atapi_toc_point(p, 0xA0, 1, 0, 0); /* first track; disc type CD-ROM */
        p = atapi_toc_point(p, 0xA1, 1, 0, 0); /* last track */
        p = atapi_toc_point(p, 0xA2, out[1], out[2], out[3]);
        p = atapi_toc_point(p, 1, 0, ATAPI_LEAD_IN / ATAPI_FRAMES_PER_SECOND, 0);
        break;
    default: atapi_bad_field(a); return;
    }
    st16be(base, (uint16_t)(p - base - 2));
    atapi_reply(a, (uint32_t)(p - base), ld16be(a->packet + 7));
}

static void atapi_get_configuration(struct atapi_drive *a)
{
    uint8_t *base = atapi_answer(a, 64), *p = base + 8;
    unsigned first = ld16be(a->packet + 2), type = a->packet[1] & 3, profile = 0;
    if (type == 3) {
        atapi_bad_field(a);
        return;
    }
    if (atapi_ready(a))
        profile = atapi_is_dvd(a) ? 0x0010 : 0x0008; /* DVD-ROM, CD-ROM */
    st16be(base + 6, (uint16_t)profile);
    if (first == 0) { /* profile list */
        p[2] = 0x03;
        p[3] = 8;
        st16be(p + 4, 0x0010);
        p[6] = profile == 0x0010;
        st16be(p + 8, 0x0008);
        p[10] = profile == 0x0008;
        p += 12;
    }
    if (first == 1 || (type != 2 && first < 1)) { /* core: ATAPI */
        p[1] = 0x01;
        p[2] = 0x0B;
        p[3] = 8;
        st32be(p + 4, 2);
        p[8] = 1;
        p += 12;
    }
    if (first == 3 || (type != 2 && first < 3)) { /* removable medium: tray, eject, lock */
        p[1] = 0x03;
        p[2] = 0x0B;
        p[3] = 4;
        p[4] = 0x29;
        p += 8;
    }
    st32be(base, (uint32_t)(p - base - 4));
    atapi_reply(a, (uint32_t)(p - base), ld16be(a->packet + 7));
}

static void atapi_get_event(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 8);
    uint32_t size = 4;
    if (!(a->packet[1] & 1)) { /* asynchronous operation is not supported */
        atapi_bad_field(a);
        return;
    }
    p[3] = 0x10; /* supported: media */
    if (a->packet[4] & 0x10) {
        p[2] = 0x04;
        p[4] = a->event;
        p[5] = (uint8_t)((a->ide.blk->tray_open ? 1 : 0) | (atapi_ready(a) ? 2 : 0));
        a->event = ATAPI_MEDIA_NO_CHANGE;
        size = 8;
    } else {
        p[2] = 0x80; /* no event of the wanted classes */
    }
    st16be(p, (uint16_t)(size - 2));
    atapi_reply(a, size, ld16be(a->packet + 7));
}

static void atapi_disc_info(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 34);
    st16be(p, 32);
    p[2] = 0x0E;                    /* complete, last session complete, not erasable */
    p[3] = p[4] = p[5] = p[6] = 1;  /* tracks and sessions */
    p[7] = 0x20;                    /* unrestricted use */
    memset(p + 16, 0xFF, 8);        /* no lead-in or lead-out to be written */
    atapi_reply(a, 34, ld16be(a->packet + 7));
}

static void atapi_track_info(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 36);
    st16be(p, 34);
    p[2] = p[3] = 1; /* track, session */
    p[5] = 0x04;     /* data track */
    p[6] = 0x01;     /* mode 1 */
    st32be(p + 24, atapi_blocks(a));
    atapi_reply(a, 36, ld16be(a->packet + 7));
}

static void atapi_mechanism_status(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 8);
    p[1] = a->ide.blk->tray_open ? 0x10 : 0;
    p[5] = 1; /* one slot */
    atapi_reply(a, 8, ld16be(a->packet + 8));
}

/* Pages 01h (error recovery), 0Eh (audio control), 2Ah (capabilities; SFF-8020i, MMC-2 §5.5.10). */
static uint8_t *atapi_mode_page(const struct atapi_drive *a, uint8_t *p, unsigned page)
{
    const uint16_t speed = 706; /* kB/s: 4x */
    switch (page) {
    case 0x01:
        p[0] = 0x01;
        p[1] = 6;
        p[3] = 5; /* retries */
        return p + 8;
    case 0x0E:
        p[0] = 0x0E;
        p[1] = 14;
        p[2] = 0x04;
        return p + 16;
    case 0x2A:
        p[0] = 0x2A;
        p[1] = 18;
        p[2] = 0x0B; /* reads CD-R, CD-RW, DVD-ROM */
        p[4] = 0x70; /* multi-session, mode 2 forms 1 and 2 */
        p[6] = (uint8_t)(0x29 | (a->ide.blk->locked ? 2 : 0)); /* tray, eject, can lock */
        st16be(p + 8, speed);
        st16be(p + 10, 2);
        st16be(p + 12, IDE_BUF_BYTES / 1024);
        st16be(p + 14, speed);
        return p + 20;
    }
    return NULL;
}

static void atapi_mode_sense(struct atapi_drive *a, bool ten)
{
    static const uint8_t pages[] = { 0x01, 0x0E, 0x2A };
    unsigned page = a->packet[2] & 0x3F, header = ten ? 8 : 4;
    uint8_t *base = atapi_answer(a, 128), *p = base + header, *next;
    unsigned i;
    uint8_t medium = !atapi_ready(a) ? 0x70 : 0x01; /* none; 120 mm data disc */
    if (a->packet[2] >> 6 == 3) {
        atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_SAVING_PARAMETERS);
        return;
    }
    for (i = 0; i < sizeof pages; i++)
        if (page == pages[i] || page == 0x3F) {
            next = atapi_mode_page(a, p, pages[i]);
            if (a->packet[2] >> 6 == 1) /* changeable values: none */
                memset(p + 2, 0, (size_t)(next - p - 2));
            p = next;
        }
    if (p == base + header) {
        atapi_bad_field(a);
        return;
    }
    if (ten) {
        st16be(base, (uint16_t)(p - base - 2));
        base[2] = medium;
        atapi_reply(a, (uint32_t)(p - base), ld16be(a->packet + 7));
    } else {
        base[0] = (uint8_t)(p - base - 1);
        base[1] = medium;
        atapi_reply(a, (uint32_t)(p - base), a->packet[4]);
    }
}

/* ---- packet dispatch ---- */

/* MMC-3 §4.1.6: these report no unit attention. */
static bool atapi_ignores_attention(uint8_t op)
{
    return op == MMC_INQUIRY || op == MMC_REQUEST_SENSE || op == MMC_GET_EVENT_STATUS || op == MMC_GET_CONFIGURATION;
}

static bool atapi_needs_medium(uint8_t op)
{
    switch (op) {
    case MMC_TEST_UNIT_READY:
    case MMC_READ_CAPACITY:
    case MMC_READ_10:
    case MMC_READ_12:
    case MMC_READ_CD:
    case MMC_SEEK_10:
    case MMC_READ_TOC:
    case MMC_READ_DISC_INFO:
    case MMC_READ_TRACK_INFO: return true;
    }
    return false;
}

static void atapi_execute(struct atapi_drive *a)
{
    const uint8_t *c = a->packet;
    emu_log(a->ide.dev.emu, LOG_TRACE, "ide-cd: packet %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x limit %u%s", c[0], c[1], c[2], c[3], c[4],
            c[5], c[6], c[7], c[8], c[9], (unsigned)a->limit, a->dma ? " dma" : "");
    if (a->attention && !atapi_ignores_attention(c[0])) { /* invariant 2 */
        a->attention = false;
        atapi_check(a, ATAPI_SENSE_ATTENTION, ATAPI_ASC_MEDIUM_CHANGED);
        return;
    }
    if (c[0] != MMC_REQUEST_SENSE) {
        a->sense_key = ATAPI_SENSE_NONE;
        a->sense_code = ATAPI_ASC_NONE;
    }
    if (atapi_needs_medium(c[0]) && !atapi_ready(a)) {
        atapi_check(a, ATAPI_SENSE_NOT_READY, ATAPI_ASC_NO_MEDIUM);
        return;
    }
    switch (c[0]) {
    case MMC_TEST_UNIT_READY:
    case MMC_SYNCHRONIZE_CACHE:
    case MMC_SET_CD_SPEED: atapi_good(a); break;
    case MMC_REQUEST_SENSE: atapi_request_sense(a); break;
    case MMC_INQUIRY: atapi_inquiry(a); break;
    case MMC_MODE_SENSE_6: atapi_mode_sense(a, false); break;
    case MMC_MODE_SENSE_10: atapi_mode_sense(a, true); break;
    case MMC_START_STOP: atapi_start_stop(a); break;
    case MMC_PREVENT_ALLOW:
        a->ide.blk->locked = (c[4] & 1) != 0;
        atapi_good(a);
        break;
    case MMC_READ_CAPACITY: atapi_capacity(a); break;
    case MMC_READ_10: atapi_read(a, ld32be(c + 2), ld16be(c + 7), false); break;
    case MMC_READ_12: atapi_read(a, ld32be(c + 2), ld32be(c + 6), false); break;
    case MMC_READ_CD: atapi_read_cd(a); break;
    case MMC_SEEK_10:
        if (ld32be(c + 2) >= atapi_blocks(a))
            atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_OUT_OF_RANGE);
        else
            atapi_good(a);
        break;
    case MMC_READ_TOC: atapi_read_toc(a); break;
    case MMC_GET_CONFIGURATION: atapi_get_configuration(a); break;
    case MMC_GET_EVENT_STATUS: atapi_get_event(a); break;
    case MMC_READ_DISC_INFO: atapi_disc_info(a); break;
    case MMC_READ_TRACK_INFO: atapi_track_info(a); break;
    case MMC_MECHANISM_STATUS: atapi_mechanism_status(a); break;
    default: atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_INVALID_COMMAND); break;
    }
}

static void atapi_packet_filled(struct ide_drive *d)
{
    struct atapi_drive *a = atapi_of(d);
    memcpy(a->packet, d->buf, sizeof a->packet);
    d->status = IDE_DRDY | IDE_DSC;
    atapi_execute(a);
}

static void atapi_packet(struct atapi_drive *a)
{
    struct ide_drive *d = &a->ide;
    a->dma = (d->feature & 1) != 0;
    a->limit = d->lba[1] | (uint32_t)d->lba[2] << 8;
    if (!a->limit || a->limit == 0xFFFF)
        a->limit = 0xFFFE; /* 0 is forbidden for data by ATA-4 and later; older drivers mean "as much as you like" */
    if (a->limit > 1)
        a->limit &= ~UINT32_C(1); /* only the last part may be odd */
    d->count = ATAPI_REASON_CD;
    ide_pio_out(d, 0, ATAPI_PACKET_BYTES, false, atapi_packet_filled);
}

/* ---- ATA commands of a packet device ---- */

static void atapi_word(uint8_t *p, unsigned word, unsigned v) { st16le(p + 2 * word, (uint16_t)v); }

static void atapi_identify_taken(struct ide_drive *d) { ide_idle(d); }

static void atapi_identify(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, IDE_SECTOR_BYTES);
    atapi_word(p, 0, 0x8000 | 5 << 8 | 0x80 | 2 << 5); /* ATAPI, CD-ROM, removable, DRQ within 50 us, 12-byte packets */
    ide_put_string(p + 2 * 10, 20, a->serial);
    atapi_word(p, 20, 3);
    atapi_word(p, 21, IDE_BUF_BYTES / IDE_SECTOR_BYTES);
    ide_put_string(p + 2 * 23, 8, EMU_VERSION);
    ide_put_string(p + 2 * 27, 40, a->model);
    atapi_word(p, 48, 1);
    atapi_word(p, 49, 1 << 11 | 1 << 9 | 1 << 8); /* IORDY, LBA, DMA */
    atapi_word(p, 53, 7);
    atapi_word(p, 63, 7 | (unsigned)a->mwdma << 8);
    atapi_word(p, 64, 3);
    atapi_word(p, 65, 120);
    atapi_word(p, 66, 120);
    atapi_word(p, 67, 120);
    atapi_word(p, 68, 120);
    atapi_word(p, 71, 30);
    atapi_word(p, 72, 30);
    atapi_word(p, 80, 0x1E);               /* ATA-1 to ATA/ATAPI-4 */
    atapi_word(p, 82, 1 << 14 | 1 << 9 | 1 << 4); /* NOP, DEVICE RESET, PACKET */
    atapi_word(p, 83, 1 << 14);
    atapi_word(p, 85, 1 << 14 | 1 << 9 | 1 << 4);
    atapi_word(p, 87, 1 << 14);
    atapi_word(p, 88, 0x3F | (unsigned)a->udma << 8);
    atapi_word(p, 93, 1 << 14 | 1 << 13 | 1);
    ide_pio_in(&a->ide, 0, IDE_SECTOR_BYTES, atapi_identify_taken);
}

static void atapi_signature(struct ide_drive *d)
{
    d->count = d->lba[0] = 1;
    d->lba[1] = 0x14;
    d->lba[2] = 0xEB;
    d->status = 0; /* DRDY comes with the first command (ATA/ATAPI-6 §9.12) */
}

static void atapi_set_features(struct atapi_drive *a)
{
    struct ide_drive *d = &a->ide;
    unsigned mode = d->count & 7;
    if (d->feature == 0x03 && (d->count <= 1 || (d->count >> 3 == 1 && mode <= 4))) {
        ide_finish(d);
    } else if (d->feature == 0x03 && d->count >> 3 == 4 && mode <= 2) {
        a->mwdma = (uint8_t)(1 << mode);
        a->udma = 0;
        ide_finish(d);
    } else if (d->feature == 0x03 && d->count >> 3 == 8 && mode <= 5) {
        a->udma = (uint8_t)(1 << mode);
        a->mwdma = 0;
        ide_finish(d);
    } else if (d->feature == 0x66 || d->feature == 0xCC) {
        ide_finish(d);
    } else {
        ide_fail(d, IDE_ERROR_ABRT);
    }
}

static void atapi_command(struct ide_drive *d, uint8_t command)
{
    struct atapi_drive *a = atapi_of(d);
    switch (command) {
    case ATAPI_PACKET: atapi_packet(a); break;
    case ATAPI_IDENTIFY_PACKET: atapi_identify(a); break;
    case ATAPI_READ_SECTORS:
    case ATAPI_IDENTIFY: /* aborted, and the signature tells why (ATA/ATAPI-6 §8.15.5.2) */
        atapi_signature(d);
        ide_fail(d, IDE_ERROR_ABRT);
        break;
    case 0xEF: atapi_set_features(a); break;
    case 0xE5: /* CHECK POWER MODE: active */
        d->count = 0xFF;
        ide_finish(d);
        break;
    case 0xE0: /* STANDBY, IDLE, SLEEP */
    case 0xE1:
    case 0xE2:
    case 0xE3:
    case 0xE6: ide_finish(d); break;
    default: ide_fail(d, IDE_ERROR_ABRT); break;
    }
}

/* ---- device ---- */

static const struct ide_drive_ops atapi_ops = { atapi_command, atapi_signature, true };

static void atapi_reset(struct device *dev)
{
    struct atapi_drive *a = (struct atapi_drive *)dev;
    a->sense_key = ATAPI_SENSE_NONE;
    a->sense_code = ATAPI_ASC_NONE;
    a->attention = false;
    a->event = ATAPI_MEDIA_NO_CHANGE;
    a->mwdma = 0;
    a->udma = 1 << 5;
    a->at = a->filled = a->blocks_left = 0;
    a->ide.blk->locked = false;
}

static int atapi_create(struct device *dev, struct options *opts, struct err *err)
{
    struct atapi_drive *a = (struct atapi_drive *)dev;
    const struct device *other;
    const char *text;
    unsigned n = 1;
    int r = ide_attach(&a->ide, &atapi_ops, opts, err);
    if (r)
        return r;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls)
            n++;
    text = options_get(opts, "serial");
    if (text)
        snprintf(a->serial, sizeof a->serial, "%s", text);
    else
        snprintf(a->serial, sizeof a->serial, "EC%05u", n);
    text = options_get(opts, "model");
    snprintf(a->model, sizeof a->model, "%s", text ? text : "EMU DVD-ROM");
    a->ide.blk->removable = true;
    a->ide.blk->media_changed = atapi_media_changed;
    a->ide.blk->opaque = a;
    atapi_reset(dev);
    atapi_signature(&a->ide);
    return 0;
}

static void atapi_destroy(struct device *dev) { ide_detach(&((struct atapi_drive *)dev)->ide); }

static const struct opt_desc atapi_options[] = {
    { "drive", "drive", "the drive that holds the medium; empty without" },
    { "bus", "str", "ide.0 or ide.1" },
    { "unit", "u32", "0 master, 1 slave" },
    { "serial", "str", "serial number, up to 20 characters" },
    { "model", "str", "model name, up to 40 characters" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class atapi_class = {
    .name = "ide-cd", .bus = "ide", .help = "ATAPI CD-ROM and DVD-ROM drive", .options = atapi_options,
    .instance_size = sizeof(struct atapi_drive), .create = atapi_create, .reset = atapi_reset, .destroy = atapi_destroy, .user_creatable = true,
};
#undef ATAPI_BLOCK
#undef ATAPI_RAW_BLOCK
#undef ATAPI_PACKET_BYTES
#undef ATAPI_CD_MAX_BLOCKS
#undef ATAPI_FRAMES_PER_SECOND
#undef ATAPI_LEAD_IN

/* ======================================== src/dev/ide.c ======================================== */

/* dev/ide.c - the IDE function of Intel's PIIX3: two ATA channels in compatibility mode with bus-master DMA.
 *
 * Models     PIIX3 290550-002 §2.6 and §3.5 (PCI function 1, 8086:7010); "Programming Interface for Bus Master IDE
 *            Controller" 1.0; ATA/ATAPI-6 (T13 1410D) §7 and §9 for registers, selection, resets and DRQ protocol.
 * Contract   board.c creates one "piix3-ide" before the drives; drives (ata.c, atapi.c) attach to a channel and use the
 *            helpers of ide.h. Guests reach it through 1F0h-1F7h/3F6h (IRQ 14), 170h-177h/376h (IRQ 15) and BAR 4.
 * Theory     A drive is in one of these states; the function beside the arrow makes the transition.
 *
 *              idle --ide_write_command--> drive's command() --+--ide_io------> BSY --blk done--> continuation
 *                                                              +--ide_pio_*---> DRQ --last byte--> continuation
 *                                                              +--ide_dma-----> waits for start bit --ide_bm_run--> continuation
 *                                                              +--ide_gap-----> BSY --timer--> continuation
 *              any --ide_finish/ide_idle/ide_fail--> idle;  any --SRST, reset, DEVICE RESET: ide_stop--> idle
 *
 *            DMA goes through the drive's buffer: a window is moved to or from the guest's PRD list in one go as soon as
 *            the start bit is set. Both registers sets of a channel are written together, as both drives listen.
 * Invariants 1. The channel's line is high exactly while the selected drive has INTRQ and nIEN is clear.
 *            2. Bus-master "active" is set only between a start and the end of the PRD table or a stop.
 *            3. No block request outlives ide_stop() of its drive.
 * Missing    The timing registers (40h-44h) are kept but change nothing; the channels are always decoded. Native mode: the
 *            PIIX3 has none.
 */

#define IDE_GAP_NS (1 * NS_PER_US) /* BSY between two DRQ blocks; a driver that re-arms its "interrupt seen" flag needs some */

enum { /* device control, 3F6h */
    IDE_CONTROL_NIEN = 0x02,
    IDE_CONTROL_SRST = 0x04,
    IDE_CONTROL_HOB = 0x80
};
enum { /* device register */
    IDE_DEVICE_DEV = 0x10,
    IDE_DEVICE_OBSOLETE = 0xA0 /* bits 7 and 5 read as ones */
};
enum { /* bus master */
    IDE_BM_START = 0x01,
    IDE_BM_TO_MEMORY = 0x08,
    IDE_BM_ACTIVE = 0x01,
    IDE_BM_ERROR = 0x02,
    IDE_BM_INT = 0x04,
    IDE_BM_CAPABLE = 0x60 /* software's notes about the drives */
};
enum { IDE_CMD_DEVICE_RESET = 0x08, IDE_CMD_DIAGNOSTIC = 0x90 };

struct ide_channel {
    struct ide_controller *controller;
    struct ide_drive *drives[2];
    unsigned selected;
    uint8_t control;
    struct irq irq;
    bool irq_level;
    struct region command_ports, control_port;
    /* bus master */
    uint8_t bm_command, bm_status;
    uint32_t bm_table;      /* PRD table address register */
    uint32_t bm_next;       /* next PRD to fetch */
    uint32_t bm_address;    /* rest of the present one */
    uint32_t bm_left;
    bool bm_last;           /* it carried the end mark */
};
struct ide_controller {
    struct pci_device pci;
    struct ide_channel channels[2];
};

/* ---- interrupt line ---- */

static void ide_update_irq(struct ide_channel *ch)
{
    const struct ide_drive *d = ch->drives[ch->selected];
    bool level = d && d->intrq && !(ch->control & IDE_CONTROL_NIEN);
    if (level == ch->irq_level)
        return;
    ch->irq_level = level;
    if (level)
        ch->bm_status |= IDE_BM_INT;
    irq_set(&ch->irq, level);
}

static void ide_raise(struct ide_drive *d)
{
    d->intrq = true;
    ide_update_irq(d->channel);
}

/* ---- transfer engine ---- */

static void ide_window(struct ide_drive *d, enum ide_phase phase, uint32_t offset, uint32_t size, ide_fn done)
{
    assert(offset <= IDE_BUF_BYTES && size <= IDE_BUF_BYTES - offset);
    d->phase = (uint8_t)phase;
    d->pos = offset;
    d->end = offset + size;
    d->window_done = done;
}

EMU_PRIV void ide_pio_in(struct ide_drive *d, uint32_t offset, uint32_t size, ide_fn taken)
{
    ide_window(d, IDE_PHASE_PIO_IN, offset, size, taken);
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    ide_raise(d);
}

EMU_PRIV void ide_pio_out(struct ide_drive *d, uint32_t offset, uint32_t size, bool interrupt, ide_fn filled)
{
    ide_window(d, IDE_PHASE_PIO_OUT, offset, size, filled);
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    if (interrupt)
        ide_raise(d);
}

static void ide_window_end(struct ide_drive *d)
{
    ide_fn done = d->window_done;
    d->phase = IDE_PHASE_NONE;
    d->status &= (uint8_t)~IDE_DRQ;
    done(d);
}

static void ide_bm_error(struct ide_channel *ch)
{
    ch->bm_status = (uint8_t)((ch->bm_status & ~IDE_BM_ACTIVE) | IDE_BM_ERROR);
}

/* Moves as much of the drive's window as the PRD list takes. Stays pending when the list ends first (the specification's
 * "PRD smaller than the transfer"): a new list may be started, else the guest resets the drive. */
static void ide_bm_run(struct ide_channel *ch)
{
    struct ide_drive *d = ch->drives[ch->selected];
    struct emu *e = ch->controller->pci.dev.emu;
    if (!d || !(ch->bm_status & IDE_BM_ACTIVE) || (d->phase != IDE_PHASE_DMA_IN && d->phase != IDE_PHASE_DMA_OUT))
        return;
    if (!pci_bus_master(&ch->controller->pci)) {
        ide_bm_error(ch); /* the cycle is never claimed: master abort */
        return;
    }
    while (d->pos < d->end) {
        uint32_t n;
        if (!ch->bm_left) {
            uint8_t prd[8];
            if (ch->bm_last) {
                ch->bm_status &= (uint8_t)~IDE_BM_ACTIVE;
                return;
            }
            dma_read(e, ch->bm_next, prd, sizeof prd);
            ch->bm_next += 8;
            ch->bm_address = ld32le(prd) & ~UINT32_C(1);
            ch->bm_left = ld16le(prd + 4) & 0xFFFEu;
            if (!ch->bm_left)
                ch->bm_left = 0x10000;
            ch->bm_last = (prd[7] & 0x80) != 0;
        }
        n = EMU_MIN(d->end - d->pos, ch->bm_left);
        if (d->phase == IDE_PHASE_DMA_IN)
            dma_write(e, ch->bm_address, d->buf + d->pos, n);
        else
            dma_read(e, ch->bm_address, d->buf + d->pos, n);
        d->pos += n;
        ch->bm_address += n;
        ch->bm_left -= n;
    }
    if (!ch->bm_left && ch->bm_last)
        ch->bm_status &= (uint8_t)~IDE_BM_ACTIVE;
    ide_window_end(d);
}

EMU_PRIV void ide_dma(struct ide_drive *d, bool to_memory, uint32_t offset, uint32_t size, ide_fn moved)
{
    ide_window(d, to_memory ? IDE_PHASE_DMA_IN : IDE_PHASE_DMA_OUT, offset, size, moved);
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    if (d->channel->drives[d->channel->selected] == d)
        ide_bm_run(d->channel);
}

static void ide_gap_over(void *opaque)
{
    struct ide_drive *d = opaque;
    d->gap_done(d);
}

EMU_PRIV void ide_gap(struct ide_drive *d, ide_fn next)
{
    d->status = IDE_BSY;
    d->gap_done = next;
    timer_arm(&d->gap_timer, emu_now_ns(d->dev.emu) + IDE_GAP_NS);
}

static void ide_io_finished(void *opaque, int result)
{
    struct ide_drive *d = opaque;
    d->io_pending = false;
    d->io_done(d, result);
}

EMU_PRIV void ide_io(struct ide_drive *d, enum blk_op op, uint64_t offset, uint32_t buf_offset, uint64_t size, ide_result_fn done)
{
    struct blk_request *r = &d->request;
    bool data = op == BLK_READ || op == BLK_WRITE;
    assert(!d->io_pending);
    assert(!data || (buf_offset <= IDE_BUF_BYTES && size <= IDE_BUF_BYTES - buf_offset));
    memset(r, 0, sizeof *r);
    d->iov.base = d->buf + buf_offset;
    d->iov.size = (size_t)size;
    r->op = (uint8_t)op;
    r->offset = offset;
    r->size = size;
    r->iov = data ? &d->iov : NULL;
    r->iov_count = data ? 1 : 0;
    r->done = ide_io_finished;
    r->opaque = d;
    d->io_done = done;
    d->io_pending = true;
    d->status = IDE_BSY;
    blk_submit(d->blk, r);
}

EMU_PRIV void ide_idle(struct ide_drive *d)
{
    d->phase = IDE_PHASE_NONE;
    d->status = IDE_DRDY | IDE_DSC;
    d->error = 0;
}

EMU_PRIV void ide_finish(struct ide_drive *d)
{
    ide_idle(d);
    ide_raise(d);
}

EMU_PRIV void ide_fail(struct ide_drive *d, uint8_t error)
{
    d->phase = IDE_PHASE_NONE;
    d->status = IDE_DRDY | IDE_DSC | IDE_ERR;
    d->error = error;
    ide_raise(d);
}

EMU_PRIV void ide_stop(struct ide_drive *d)
{
    if (d->io_pending) {
        d->io_pending = false;
        blk_cancel(d->blk, &d->request);
    }
    timer_cancel(&d->gap_timer);
    d->phase = IDE_PHASE_NONE;
    d->pos = d->end = 0;
    d->intrq = false;
}

/* Task file as every reset leaves it; the drive adds its own signature. */
static void ide_drive_reset(struct ide_drive *d)
{
    ide_stop(d);
    d->feature = d->hob_feature = d->hob_count = 0;
    memset(d->hob_lba, 0, sizeof d->hob_lba);
    d->device = 0;
    d->error = 1; /* diagnostic code: passed (ATA/ATAPI-6 table 26) */
    d->ops->signature(d);
}

EMU_PRIV void ide_put_string(uint8_t *words, unsigned bytes, const char *text)
{
    unsigned i;
    for (i = 0; i < bytes; i++) {
        words[i ^ 1] = *text ? (uint8_t)*text : ' ';
        if (*text)
            text++;
    }
}

/* ---- command block registers ---- */

static void ide_execute_diagnostic(struct ide_channel *ch)
{
    unsigned i;
    for (i = 0; i < 2; i++)
        if (ch->drives[i])
            ide_drive_reset(ch->drives[i]);
    ch->selected = 0;
    if (ch->drives[0])
        ide_raise(ch->drives[0]);
    ide_update_irq(ch);
}

static void ide_write_command(struct ide_channel *ch, uint8_t command)
{
    struct ide_drive *d = ch->drives[ch->selected];
    if (command == IDE_CMD_DIAGNOSTIC && (ch->drives[0] || ch->drives[1])) { /* addressed to both, whichever is selected */
        if (!d || !(d->status & IDE_BSY))
            ide_execute_diagnostic(ch);
        return;
    }
    if (!d)
        return;
    if (command == IDE_CMD_DEVICE_RESET && d->ops->packet) { /* accepted even while busy */
        uint8_t device = d->device;
        ide_drive_reset(d);
        d->device = device & IDE_DEVICE_DEV;
        ide_update_irq(ch);
        return;
    }
    if (d->status & (IDE_BSY | IDE_DRQ))
        return;
    d->intrq = false;
    ide_update_irq(ch);
    d->status = IDE_DRDY | IDE_DSC;
    d->error = 0;
    emu_log(d->dev.emu, LOG_TRACE, "ide: unit %u command %#x count %#x lba %02x%02x%02x device %#x", d->unit, command, d->count, d->lba[2],
            d->lba[1], d->lba[0], d->device);
    d->ops->command(d, command);
}

static void ide_write_register(struct ide_channel *ch, unsigned reg, uint8_t v)
{
    unsigned i;
    ch->control &= (uint8_t)~IDE_CONTROL_HOB;
    if (reg == 7) {
        ide_write_command(ch, v);
        return;
    }
    if (reg == 6) {
        ch->selected = (v & IDE_DEVICE_DEV) != 0;
        ide_update_irq(ch);
    }
    for (i = 0; i < 2; i++) {
        struct ide_drive *d = ch->drives[i];
        if (!d || (d->status & IDE_BSY))
            continue;
        switch (reg) {
        case 1:
            d->hob_feature = d->feature;
            d->feature = v;
            break;
        case 2:
            d->hob_count = d->count;
            d->count = v;
            break;
        case 3:
        case 4:
        case 5:
            d->hob_lba[reg - 3] = d->lba[reg - 3];
            d->lba[reg - 3] = v;
            break;
        case 6: d->device = v; break;
        }
    }
}

static uint8_t ide_read_register(struct ide_channel *ch, unsigned reg)
{
    struct ide_drive *d = ch->drives[ch->selected];
    bool hob = (ch->control & IDE_CONTROL_HOB) != 0;
    if (!d && reg != 7 && ch->selected == 1)
        d = ch->drives[0]; /* device 0 answers for an absent device 1, but with status 0 (ATA/ATAPI-6 §9.16.1) */
    if (!d)
        return 0;
    switch (reg) {
    case 1: return hob ? d->hob_feature : d->error;
    case 2: return hob ? d->hob_count : d->count;
    case 3:
    case 4:
    case 5: return hob ? d->hob_lba[reg - 3] : d->lba[reg - 3];
    case 6: return (uint8_t)((d->device & ~IDE_DEVICE_DEV) | IDE_DEVICE_OBSOLETE | (ch->selected ? IDE_DEVICE_DEV : 0));
    default: return d->status;
    }
}

static uint64_t ide_read_data(struct ide_drive *d, unsigned size)
{
    uint64_t v;
    uint32_t left;
    if (!d || d->phase != IDE_PHASE_PIO_IN)
        return 0;
    left = d->end - d->pos;
    if (left >= size) {
        v = ldn_le(d->buf + d->pos, size);
        d->pos += size;
    } else { /* a wide read of an odd tail: what is left, zeros above */
        uint8_t tail[8] = { 0 };
        memcpy(tail, d->buf + d->pos, left);
        v = ldn_le(tail, size);
        d->pos = d->end;
    }
    if (d->pos == d->end)
        ide_window_end(d);
    return v;
}

static void ide_write_data(struct ide_drive *d, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    uint32_t n;
    if (!d || d->phase != IDE_PHASE_PIO_OUT)
        return;
    stn_le(bytes, value, size);
    n = EMU_MIN(d->end - d->pos, size);
    memcpy(d->buf + d->pos, bytes, n);
    d->pos += n;
    if (d->pos == d->end)
        ide_window_end(d);
}

static uint64_t ide_command_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *ch = opaque;
    uint64_t v = 0;
    unsigned i;
    if (offset == 0)
        return ide_read_data(ch->drives[ch->selected], size);
    for (i = 0; i < size; i++) {
        unsigned reg = (unsigned)offset + i;
        v |= (uint64_t)ide_read_register(ch, reg) << (8 * i);
        if (reg == 7 && ch->drives[ch->selected]) {
            ch->drives[ch->selected]->intrq = false;
            ide_update_irq(ch);
        }
    }
    return v;
}

static void ide_command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_channel *ch = opaque;
    unsigned i;
    if (offset == 0) {
        ide_write_data(ch->drives[ch->selected], value, size);
        return;
    }
    for (i = 0; i < size; i++)
        ide_write_register(ch, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
}

/* ---- control register: alternate status, nIEN, SRST ---- */

static uint64_t ide_control_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *ch = opaque;
    const struct ide_drive *d = ch->drives[ch->selected];
    (void)offset, (void)size;
    return d ? d->status : 0;
}

static void ide_control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_channel *ch = opaque;
    uint8_t old = ch->control;
    unsigned i;
    (void)offset, (void)size;
    ch->control = (uint8_t)value;
    for (i = 0; i < 2; i++) {
        struct ide_drive *d = ch->drives[i];
        if (!d)
            continue;
        if (ch->control & IDE_CONTROL_SRST) {
            ide_stop(d);
            d->status = IDE_BSY;
        } else if (old & IDE_CONTROL_SRST) {
            ide_drive_reset(d);
        }
    }
    if ((old & IDE_CONTROL_SRST) && !(ch->control & IDE_CONTROL_SRST))
        ch->selected = 0;
    ide_update_irq(ch);
}

/* ---- bus master registers: BAR 4, eight bytes a channel ---- */

static void ide_bm_write_command(struct ide_channel *ch, uint8_t v)
{
    bool was = (ch->bm_command & IDE_BM_START) != 0, is = (v & IDE_BM_START) != 0;
    ch->bm_command = v & (IDE_BM_START | IDE_BM_TO_MEMORY);
    if (!was && is) {
        ch->bm_status |= IDE_BM_ACTIVE;
        ch->bm_next = ch->bm_table;
        ch->bm_left = 0;
        ch->bm_last = false;
        ide_bm_run(ch);
    } else if (was && !is) {
        ch->bm_status &= (uint8_t)~IDE_BM_ACTIVE;
    }
}

static uint64_t ide_bm_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_controller *c = opaque;
    uint64_t v = 0;
    unsigned i;
    for (i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i;
        const struct ide_channel *ch = &c->channels[(at >> 3) & 1];
        uint8_t byte = 0;
        switch (at & 7) {
        case 0: byte = ch->bm_command; break;
        case 2: byte = ch->bm_status; break;
        case 4:
        case 5:
        case 6:
        case 7: byte = (uint8_t)(ch->bm_table >> (8 * (at & 3))); break;
        }
        v |= (uint64_t)byte << (8 * i);
    }
    return v;
}

static void ide_bm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_controller *c = opaque;
    unsigned i;
    for (i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i, shift = 8 * (at & 3);
        struct ide_channel *ch = &c->channels[(at >> 3) & 1];
        uint8_t byte = (uint8_t)(value >> (8 * i));
        switch (at & 7) {
        case 0: ide_bm_write_command(ch, byte); break;
        case 2: /* capability bits are software's; error and interrupt are cleared by ones */
            ch->bm_status = (uint8_t)((ch->bm_status & IDE_BM_ACTIVE) | (byte & IDE_BM_CAPABLE) |
                                      (ch->bm_status & ~byte & (IDE_BM_ERROR | IDE_BM_INT)));
            break;
        case 4:
        case 5:
        case 6:
        case 7:
            ch->bm_table = (ch->bm_table & ~(UINT32_C(0xFF) << shift)) | (uint32_t)byte << shift;
            ch->bm_table &= ~UINT32_C(3);
            break;
        }
    }
}

/* ---- drives come and go ---- */

static void ide_reset_channel(struct ide_channel *ch)
{
    unsigned i;
    for (i = 0; i < 2; i++)
        if (ch->drives[i])
            ide_drive_reset(ch->drives[i]);
    ch->selected = 0;
    ch->control = 0;
    ch->bm_command = ch->bm_status = 0;
    ch->bm_table = ch->bm_next = ch->bm_left = 0;
    ch->bm_last = false;
    ide_update_irq(ch);
}

static int ide_choose_slot(struct ide_controller *c, struct options *opts, unsigned *bus, unsigned *unit, struct err *err)
{
    const char *name = options_get(opts, "bus");
    uint64_t wanted = 2;
    unsigned i;
    *bus = 2;
    if (name) {
        if (strncmp(name, "ide.", 4) != 0 || (name[4] != '0' && name[4] != '1') || name[5])
            return err_set(err, EMU_EINVAL, "%s: no bus \"%s\"; there are ide.0 and ide.1", opts->origin, name);
        *bus = (unsigned)(name[4] - '0');
    }
    if (options_u64(opts, "unit", 0, 1, &wanted, err))
        return EMU_EINVAL;
    for (i = 0; i < 4; i++)
        if ((*bus == 2 || *bus == i / 2) && (wanted == 2 || wanted == i % 2) && !c->channels[i / 2].drives[i % 2]) {
            *bus = i / 2;
            *unit = i % 2;
            return 0;
        }
    return err_set(err, EMU_EBUSY, "%s: that place on the IDE bus is taken; there are four: bus=ide.0 or ide.1, unit=0 or 1", opts->origin);
}

EMU_PRIV int ide_attach(struct ide_drive *d, const struct ide_drive_ops *ops, struct options *opts, struct err *err)
{
    struct emu *e = d->dev.emu;
    struct ide_controller *c = (struct ide_controller *)device_find(e, "piix3-ide");
    const char *drive = options_get(opts, "drive");
    unsigned bus = 0, unit = 0;
    int r;
    if (!c)
        return err_set(err, EMU_ENOENT, "%s: this machine has no IDE controller", opts->origin);
    if (!drive && !ops->packet)
        return err_set(err, EMU_EINVAL, "%s: drive=ID is missing", opts->origin);
    d->blk = drive ? blk_find(e, drive) : blk_create(e, d->dev.id ? d->dev.id : "ide1-cd0", err);
    if (!d->blk)
        return drive ? err_set(err, EMU_ENOENT, "%s: there is no drive \"%s\"", opts->origin, drive) : EMU_ENOMEM;
    if (d->blk->in_use)
        return err_set(err, EMU_EBUSY, "%s: drive \"%s\" is already used by another device", opts->origin, drive ? drive : "");
    r = ide_choose_slot(c, opts, &bus, &unit, err);
    if (r)
        return r;
    d->buf = emu_alloc(e, IDE_BUF_BYTES);
    if (!d->buf)
        return err_set(err, EMU_ENOMEM, "out of memory");
    d->ops = ops;
    d->channel = &c->channels[bus];
    d->unit = unit;
    d->channel->drives[unit] = d;
    d->blk->in_use = true;
    timer_init(&d->gap_timer, e, ide_gap_over, d);
    return 0;
}

EMU_PRIV void ide_detach(struct ide_drive *d)
{
    if (d->channel) {
        ide_stop(d);
        d->channel->drives[d->unit] = NULL;
        ide_update_irq(d->channel);
        d->channel = NULL;
        d->blk->in_use = false;
        d->blk->media_changed = NULL;
    }
    emu_free(d->dev.emu, d->buf);
    d->buf = NULL;
}

/* ---- device ---- */

static const struct region_ops ide_command_ops = { ide_command_read, ide_command_write, 1, 4, true };
static const struct region_ops ide_control_ops = { ide_control_read, ide_control_write, 1, 1, true };
static const struct region_ops ide_bm_ops = { ide_bm_read, ide_bm_write, 1, 4, true };

static int ide_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ide_controller *c = (struct ide_controller *)dev;
    unsigned i;
    int r = pci_device_init(&c->pci, 1 << 3 | 1, 0x8086, 0x7010, 0x01018000, err); /* IDE, bus master, compatibility mode */
    (void)opts;
    if (r)
        return r;
    pci_set_subsystem(&c->pci, 0x1AF4, 0x1100);
    /* IDETIM: decode enabled, so that a guest without firmware finds the channels too (290550-002 §2.6.9) */
    st16le(c->pci.config + 0x40, 0x8000);
    st16le(c->pci.config + 0x42, 0x8000);
    memset(c->pci.wmask + 0x40, 0xFF, 5);
    pci_add_bar_io(&c->pci, 4, "ide bus master", 16, true, &ide_bm_ops, c);
    for (i = 0; i < 2; i++) {
        struct ide_channel *ch = &c->channels[i];
        ch->controller = c;
        ch->irq = board_gsi(dev->emu, 14 + (int)i);
        r = port_add(dev->emu, &ch->command_ports, "ide", i ? 0x170 : 0x1F0, 8, &ide_command_ops, ch);
        if (!r)
            r = port_add(dev->emu, &ch->control_port, "ide control", i ? 0x376 : 0x3F6, 1, &ide_control_ops, ch);
        if (r)
            return err_set(err, r, "IDE ports are taken");
    }
    return 0;
}

static void ide_reset(struct device *dev)
{
    struct ide_controller *c = (struct ide_controller *)dev;
    ide_reset_channel(&c->channels[0]);
    ide_reset_channel(&c->channels[1]);
    st16le(c->pci.config + 0x40, 0x8000);
    st16le(c->pci.config + 0x42, 0x8000);
}

static void ide_destroy(struct device *dev)
{
    struct ide_controller *c = (struct ide_controller *)dev;
    unsigned i, k;
    for (i = 0; i < 2; i++) {
        for (k = 0; k < 2; k++)
            if (c->channels[i].drives[k])
                ide_detach(c->channels[i].drives[k]);
        region_remove(dev->emu, &dev->emu->ports, &c->channels[i].command_ports);
        region_remove(dev->emu, &dev->emu->ports, &c->channels[i].control_port);
    }
    pci_device_remove(&c->pci);
}

EMU_PRIV const struct device_class ide_class = {
    .name = "piix3-ide", .bus = "pci", .help = "Intel PIIX3 IDE controller, two channels with bus-master DMA",
    .instance_size = sizeof(struct ide_controller), .create = ide_create, .reset = ide_reset, .destroy = ide_destroy,
};
#undef IDE_GAP_NS

/* ======================================== src/machine/board.c ======================================== */

/* machine/board.c - the PC: which devices there are, how they are wired, reset.
 *
 * Models     QEMU's machine "pc": i440FX + PIIX3, with its PCI slots (00.0 host bridge, 01.0 ISA, 01.1 IDE, 01.3 power management, 02.0 VGA,
 *            03.0 first network card).
 * Contract   front/api.c calls board_create() once, after memory and clock; board_destroy() copes with half a board.
 * Theory     One table lists every device class. board_create() makes RAM, chips and default devices, then those of -device, then
 *            the drives, then firmware. Devices are kept in a list and destroyed in the opposite order.
 * Invariants 1. emu->devices holds every created device, newest first.
 *            2. RAM below 4 GiB ends at BOARD_LOW_RAM at most; the rest follows from 4 GiB on.
 */

/* As QEMU's pc: 3 GiB below the PCI hole when there is more than 3.5 GiB in all. */
#define BOARD_LOW_RAM_MAX UINT64_C(0xE0000000)
#define BOARD_LOW_RAM_SPLIT UINT64_C(0xC0000000)
#define BOARD_4G (UINT64_C(1) << 32)

/* ORDER: shown by -device help in this order. */
static const struct device_class *const board_classes[] = {
    &i440fx_class, &piix3_class, &piix4_pm_class, &port92_class, &pic_class, &ioapic_class, &lapic_class, &pit_class, &hpet_class,
    &rtc_class, &dma_class, &fw_cfg_class, &fdc_class, &uart_class, &parallel_class, &ps2_class, &vga_class, &ide_class, &ata_class,
    &atapi_class, &debugcon_class, &debug_exit_class, &pc_testdev_class, &pci_testdev_class,
};

EMU_PRIV const struct device_class *device_class_at(size_t i) { return i < EMU_ARRAY_LEN(board_classes) ? board_classes[i] : NULL; }

EMU_PRIV const struct device_class *device_class_find(const char *name)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(board_classes); i++)
        if (!strcmp(board_classes[i]->name, name))
            return board_classes[i];
    return NULL;
}

EMU_PRIV struct device *device_create(struct emu *e, const char *class_name, const char *id, struct options *opts, struct err *err)
{
    const struct device_class *cls = device_class_find(class_name);
    struct options none;
    struct device *dev;
    int r;
    if (!cls) {
        err_set(err, EMU_EINVAL, "-device %s: unknown device; `-device help` lists them", class_name);
        return NULL;
    }
    memset(&none, 0, sizeof none);
    none.emu = e;
    none.origin = (char *)(uintptr_t)cls->name;
    dev = emu_alloc(e, cls->instance_size);
    if (!dev || (id && !(dev->id = emu_strdup(e, id)))) {
        emu_free(e, dev);
        err_set(err, EMU_ENOMEM, "%s: out of memory", class_name);
        return NULL;
    }
    dev->cls = cls;
    dev->emu = e;
    r = cls->create(dev, opts ? opts : &none, err);
    if (!r && opts) {
        r = options_check_used(opts, err);
        if (r && cls->destroy)
            cls->destroy(dev);
    }
    if (r) {
        emu_free(e, dev->id);
        emu_free(e, dev);
        return NULL;
    }
    dev->next = e->devices;
    e->devices = dev;
    return dev;
}

EMU_PRIV void device_destroy(struct device *dev)
{
    struct emu *e = dev->emu;
    struct device **p;
    for (p = &e->devices; *p; p = &(*p)->next)
        if (*p == dev) {
            *p = dev->next;
            break;
        }
    if (dev->cls->destroy)
        dev->cls->destroy(dev);
    emu_free(e, dev->id);
    emu_free(e, dev);
}

EMU_PRIV struct device *device_find(struct emu *e, const char *class_name)
{
    struct device *dev, *found = NULL;
    for (dev = e->devices; dev; dev = dev->next) /* newest first: the last match is the first device */
        if (!strcmp(dev->cls->name, class_name))
            found = dev;
    return found;
}

/* A device of the board itself, with options written as on the command line. */
static struct device *board_add(struct emu *e, const char *class_name, const char *id, struct err *err, const char *fmt, ...) EMU_PRINTF(5, 6);
static struct device *board_add(struct emu *e, const char *class_name, const char *id, struct err *err, const char *fmt, ...)
{
    char text[256];
    struct options opts;
    struct device *dev;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (options_parse(&opts, e, class_name, text, NULL, err))
        return NULL;
    dev = device_create(e, class_name, id, &opts, err);
    options_free(&opts);
    return dev;
}

EMU_PRIV struct irq board_gsi(struct emu *e, int gsi)
{
    struct irq irq;
    irq.set = chipset_set_gsi;
    irq.opaque = e;
    irq.line = gsi;
    return irq;
}

/* ---- input: every sink hears every event ---- */

EMU_PRIV void input_add(struct emu *e, struct input_sink *s)
{
    s->next = e->inputs;
    e->inputs = s;
}

EMU_PRIV void input_key(struct emu *e, int keynum, bool down)
{
    struct input_sink *s;
    for (s = e->inputs; s; s = s->next)
        if (s->key)
            s->key(s->opaque, keynum, down);
}

EMU_PRIV void input_mouse(struct emu *e, int dx, int dy, int dz, unsigned buttons)
{
    struct input_sink *s;
    for (s = e->inputs; s; s = s->next)
        if (s->mouse)
            s->mouse(s->opaque, dx, dy, dz, buttons);
}

/* ---- building ---- */

static int board_create_ram(struct emu *e, struct err *err)
{
    uint64_t size = e->config.ram_bytes;
    uint64_t low = size >= BOARD_LOW_RAM_MAX ? BOARD_LOW_RAM_SPLIT : size;
    e->ram = ram_block_create(e, "pc.ram", size, false, err);
    if (!e->ram)
        return EMU_ENOMEM;
    e->ram_below_4g = low;
    region_init_ram(&e->ram_low, "ram-below-4g", e->ram, 0, low);
    region_add(e, &e->memory, &e->ram_low, 0, MAP_PRIO_RAM);
    if (size > low) {
        region_init_ram(&e->ram_high, "ram-above-4g", e->ram, low, size - low);
        region_add(e, &e->memory, &e->ram_high, BOARD_4G, MAP_PRIO_RAM);
    }
    return 0;
}

static int board_create_cpus(struct emu *e, struct err *err)
{
    unsigned i;
    int r = trace_cache_create(e);
    if (r)
        return err_set(err, r, "out of memory for the trace cache");
    e->cpus = emu_alloc(e, e->config.cpus * sizeof *e->cpus);
    if (!e->cpus)
        return err_set(err, EMU_ENOMEM, "out of memory");
    for (i = 0; i < e->config.cpus; i++) {
        if ((r = cpu_create(e, i, &e->cpus[i], err)))
            return r;
        e->cpu_count++;
        if ((r = cpu_set_model(e->cpus[i], e->config.cpu_model, err)))
            return r;
    }
    return 0;
}

static int board_create_chips(struct emu *e, struct err *err)
{
    static const char *const chips[] = { "i440FX", "PIIX3", "i8259", "ioapic", "apic", "i8254", "hpet", "mc146818rtc", "i8237", "port92", "PIIX4_PM", "piix3-ide", "fw_cfg" };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(chips); i++) {
        if (!strcmp(chips[i], "hpet") && e->config.no_hpet)
            continue;
        if (!strcmp(chips[i], "PIIX4_PM") && e->config.no_acpi)
            continue;
        if (!board_add(e, chips[i], NULL, err, "%s", ""))
            return EMU_EINVAL;
    }
    for (i = 0; i < EMU_ARRAY_LEN(e->gsi); i++)
        e->gsi[i] = board_gsi(e, (int)i);
    return 0;
}

static int board_create_serial(struct emu *e, struct err *err)
{
    unsigned i;
    for (i = 0; i < EMU_ARRAY_LEN(e->config.serial); i++) {
        const char *spec = e->config.serial[i];
        char id[16];
        if (spec && !strcmp(spec, "none"))
            continue;
        if (!spec && (i || e->config.no_defaults)) /* COM1 is always there: firmware and kernels look for it */
            continue;
        snprintf(id, sizeof id, "serial%u", i);
        if (!chr_open(e, id, spec ? spec : "null", err))
            return err_prefix(err, EMU_EINVAL, "-serial %s", spec ? spec : "null");
        if (!board_add(e, "isa-serial", NULL, err, "chardev=%s,index=%u", id, i))
            return EMU_EINVAL;
    }
    for (i = 0; i < EMU_ARRAY_LEN(e->config.parallel); i++) {
        const char *spec = e->config.parallel[i];
        char id[16];
        if ((spec && !strcmp(spec, "none")) || (!spec && (i || e->config.no_defaults)))
            continue;
        snprintf(id, sizeof id, "parallel%u", i);
        if (!chr_open(e, id, spec ? spec : "null", err))
            return err_prefix(err, EMU_EINVAL, "-parallel %s", spec ? spec : "null");
        if (!board_add(e, "isa-parallel", NULL, err, "chardev=%s,index=%u", id, i))
            return EMU_EINVAL;
    }
    return 0;
}

/* ---- drives ---- */

/* Where a -drive line wants to be: interface and index; defaults to the first free IDE unit. */
static int board_drive_place(struct emu *e, struct config_line *line, bool taken[4], const char **interface, unsigned *index, struct err *err)
{
    struct options *o = &line->opts;
    uint64_t n = 0, bus = 0, unit = 0;
    const char *media = options_get(o, "media");
    bool cd = media && !strcmp(media, "cdrom");
    (void)e;
    *interface = options_get(o, "if");
    if (!*interface)
        *interface = "ide";
    if (media && !cd && strcmp(media, "disk"))
        return err_set(err, EMU_EINVAL, "%s: media=%s is not disk or cdrom", o->origin, media);
    if (!strcmp(*interface, "none"))
        return 0;
    if (!strcmp(*interface, "virtio") || !strcmp(*interface, "scsi") || !strcmp(*interface, "pflash") || !strcmp(*interface, "sd") || !strcmp(*interface, "mtd") ||
        !strcmp(*interface, "xen"))
        return err_set(err, EMU_ENOTSUP, "%s: if=%s is not supported yet; use if=ide", o->origin, *interface);
    if (strcmp(*interface, "ide") && strcmp(*interface, "floppy"))
        return err_set(err, EMU_EINVAL, "%s: if=%s is not ide, floppy or none", o->origin, *interface);
    if (!strcmp(*interface, "floppy")) {
        if (options_u64(o, "index", 0, 1, &n, err) || options_u64(o, "unit", 0, 1, &n, err) || options_u64(o, "bus", 0, 0, &bus, err))
            return EMU_EINVAL;
        *index = (unsigned)n;
        return 0;
    }
    if (options_get(o, "index")) {
        if (options_u64(o, "index", 0, 3, &n, err))
            return EMU_EINVAL;
    } else if (options_get(o, "bus") || options_get(o, "unit")) {
        if (options_u64(o, "bus", 0, 1, &bus, err) || options_u64(o, "unit", 0, 1, &unit, err))
            return EMU_EINVAL;
        n = bus * 2 + unit;
    } else {
        for (n = cd && !taken[2] ? 2 : 0; n < 4 && taken[n]; n++)
            ;
    }
    if (n > 3 || taken[n])
        return err_set(err, EMU_EINVAL, "%s: IDE has four places (index=0 to 3) and %s; use if=none with -device for more", o->origin,
                       n > 3 ? "all are taken" : "this one is taken");
    taken[n] = true;
    *index = (unsigned)n;
    return 0;
}

static int board_create_drives(struct emu *e, struct blk *floppies[2], struct err *err)
{
    struct config_line *line;
    bool taken[4] = { false, false, false, false };
    unsigned auto_id = 0;
    int r;
    for (line = e->config.drives; line; line = line->next) {
        const char *interface, *id = options_get(&line->opts, "id"), *media;
        unsigned index = 0;
        char name[32];
        struct blk *b;
        if ((r = board_drive_place(e, line, taken, &interface, &index, err)))
            return r;
        media = options_get(&line->opts, "media");
        if (!id) {
            if (!strcmp(interface, "ide"))
                snprintf(name, sizeof name, "ide%u-%s%u", index / 2, media && !strcmp(media, "cdrom") ? "cd" : "hd", index % 2);
            else if (!strcmp(interface, "floppy"))
                snprintf(name, sizeof name, "floppy%u", index);
            else
                snprintf(name, sizeof name, "none%u", auto_id++);
            id = name;
        }
        if (blk_find(e, id))
            return err_set(err, EMU_EEXIST, "%s: there is a drive with id %s already", line->opts.origin, id);
        b = blk_create(e, id, err);
        if (!b)
            return EMU_ENOMEM;
        b->opts = &line->opts;
        b->removable = !strcmp(interface, "floppy") || (media && !strcmp(media, "cdrom"));
        if ((r = blk_open(b, &line->opts, err)) || (r = options_check_used(&line->opts, err)))
            return r;
        if (!strcmp(interface, "floppy")) {
            if (floppies[index])
                return err_set(err, EMU_EEXIST, "%s: there are two drives with floppy index %u", line->opts.origin, index);
            floppies[index] = b;
        } else if (!strcmp(interface, "ide") &&
                   !board_add(e, media && !strcmp(media, "cdrom") ? "ide-cd" : "ide-hd", NULL, err, "drive=%s,bus=ide.%u,unit=%u", id, index / 2, index % 2)) {
            return EMU_EINVAL;
        }
    }
    if (!e->config.no_defaults && !taken[2]) { /* QEMU's pc has an empty CD drive there */
        struct blk *b = blk_create(e, "ide1-cd0", err);
        if (!b)
            return EMU_ENOMEM;
        b->removable = true;
        b->read_only = true;
        if (!board_add(e, "ide-cd", NULL, err, "drive=ide1-cd0,bus=ide.1,unit=0"))
            return EMU_EINVAL;
    }
    return 0;
}

static int board_create_devices(struct emu *e, struct err *err)
{
    struct config_line *line;
    for (line = e->config.devices; line; line = line->next) {
        const char *driver = options_get(&line->opts, "driver"), *id = options_get(&line->opts, "id");
        const struct device_class *cls = driver ? device_class_find(driver) : NULL;
        if (!driver)
            return err_set(err, EMU_EINVAL, "%s: needs a device name; `-device help` lists them", line->opts.origin);
        if (!cls || !cls->user_creatable)
            return err_set(err, EMU_EINVAL, "%s: unknown device; `-device help` lists them", line->opts.origin);
        if (!device_create(e, driver, id, &line->opts, err))
            return EMU_EINVAL;
    }
    return 0;
}

EMU_PRIV int board_create(struct emu *e, struct err *err)
{
    struct blk *floppies[2] = { NULL, NULL };
    char drives[64] = "";
    int r;
    if ((r = board_create_ram(e, err)) || (r = board_create_chips(e, err)) || (r = board_create_cpus(e, err)))
        return r;
    if (!board_add(e, "i8042", NULL, err, "%s", ""))
        return EMU_EINVAL;
    if (strcmp(e->config.vga, "none") && !board_add(e, "VGA", NULL, err, "%s", ""))
        return EMU_EINVAL;
    if ((r = board_create_serial(e, err)) || (r = board_create_drives(e, floppies, err)))
        return r;
    if (floppies[0])
        snprintf(drives, sizeof drives, "driveA=%s", floppies[0]->id);
    if (floppies[1])
        snprintf(drives + strlen(drives), sizeof drives - strlen(drives), "%sdriveB=%s", *drives ? "," : "", floppies[1]->id);
    if (!board_add(e, "isa-fdc", NULL, err, "%s", drives))
        return EMU_EINVAL;
    if ((r = board_create_devices(e, err)))
        return r;
    chipset_fill_cmos(e);
    return firmware_create(e, err);
}

EMU_PRIV void board_destroy(struct emu *e)
{
    unsigned i;
    firmware_destroy(e);
    while (e->devices)
        device_destroy(e->devices);
    for (i = 0; i < e->cpu_count; i++)
        cpu_destroy(e->cpus[i]);
    e->cpu_count = 0;
    emu_free(e, e->cpus);
    e->cpus = NULL;
    trace_cache_destroy(e);
    chipset_free(e);
}

/* Devices in the order of their creation: the list is newest first. */
static void board_reset_devices(struct device *dev)
{
    if (!dev)
        return;
    board_reset_devices(dev->next);
    if (dev->cls->bus && !strcmp(dev->cls->bus, "pci"))
        pci_device_reset((struct pci_device *)dev);
    if (dev->cls->reset)
        dev->cls->reset(dev);
}

EMU_PRIV void board_reset(struct emu *e)
{
    unsigned i;
    e->a20_mask = UINT64_MAX;
    board_reset_devices(e->devices);
    for (i = 0; i < e->cpu_count; i++)
        cpu_reset(e->cpus[i], false);
    firmware_reset(e);
}
#undef BOARD_LOW_RAM_MAX
#undef BOARD_LOW_RAM_SPLIT
#undef BOARD_4G

/* ======================================== src/net/link.c ======================================== */

/* net/link.c - ports, hubs, and the frames between them.
 *
 * Models     What `-netdev`, `-nic` and `-net` of QEMU's manual describe; hub 0 joins the members that -net names.
 * Contract   NICs and backends register a struct net_port and are connected in pairs. net_send() gives a frame to the peer; a 0 means "full: keep
 *            it, kick() will tell you". net_create() reads the command line; NIC devices are made by the board from what it leaves.
 * Theory     A frame is a list of pieces that belong to the sender and lives during the call only. It may be a super-frame: one TCP header
 *            and up to 64 KiB of payload that stands for many segments (gso), or have its checksum left open (needs_csum). A receiver that
 *            said takes_gso/takes_csum gets it as it is; for others it is cut here. A hub passes it on as it is when every port takes it.
 *            Filters sit between a port and its peer, in the order they were attached; the first that takes a frame ends its way.
 * Invariants 1. p->peer->peer == p.
 *            2. A port that is down gets nothing; what was for it is dropped and counted.
 *            3. Between exactly two ends (also across a hub with two ports) nothing is dropped for want of room.
 */

#define NET_PLAIN_MAX 65550u /* largest plain frame: 64 KiB IP packet, Ethernet and VLAN headers */

/* ---- checksums ---- */

EMU_PRIV uint32_t net_checksum_add(const void *data, size_t size, uint32_t sum)
{
    const uint8_t *p = data;
    uint64_t wide = sum;
    /* The sum of 16-bit words is the same in any word order up to byte order, and may be made 32 bits at a time (RFC 1071 §2). */
    while (size >= 16) {
        wide += (uint64_t)ld32be(p) + ld32be(p + 4) + ld32be(p + 8) + ld32be(p + 12);
        p += 16;
        size -= 16;
    }
    while (size >= 2) {
        wide += ld16be(p);
        p += 2;
        size -= 2;
    }
    if (size)
        wide += (uint32_t)p[0] << 8;
    while (wide >> 16 > 0xFFFF)
        wide = (wide & 0xFFFF) + (wide >> 16);
    return (uint32_t)((wide & 0xFFFF) + (wide >> 16));
}

EMU_PRIV uint16_t net_checksum_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)sum;
}

EMU_PRIV uint16_t net_checksum(const void *data, size_t size, uint32_t start) { return (uint16_t)~net_checksum_fold(net_checksum_add(data, size, start)); }

/* ---- frames ---- */

EMU_PRIV size_t net_frame_copy(const struct net_frame *f, size_t offset, void *buf, size_t size)
{
    uint8_t *to = buf;
    size_t done = 0;
    int i;
    for (i = 0; i < f->count && done < size; i++) {
        size_t n = f->pieces[i].size;
        if (offset >= n) {
            offset -= n;
            continue;
        }
        n = EMU_MIN(n - offset, size - done);
        memcpy(to + done, (uint8_t *)f->pieces[i].base + offset, n);
        done += n;
        offset = 0;
    }
    return done;
}

static int net_frame_flat(uint8_t *bytes, size_t size, int (*each)(void *, const struct net_frame *), void *opaque)
{
    struct host_iov piece;
    struct net_frame plain;
    memset(&plain, 0, sizeof plain);
    piece.base = bytes;
    piece.size = size;
    plain.pieces = &piece;
    plain.count = 1;
    plain.size = size;
    plain.csum_valid = true;
    return each(opaque, &plain);
}

/* Headers of one cut segment: lengths, IPv4 id and checksum, TCP sequence, flags and checksum. */
static void net_cut_headers(uint8_t *frame, const struct net_frame *f, size_t ip, size_t l4, size_t payload, uint32_t index, uint32_t done, bool last)
{
    size_t l4_size = f->header_bytes - l4 + payload;
    uint32_t sum;
    if (f->gso == NET_GSO_TCP6) {
        st16be(frame + ip + 4, (uint16_t)(f->header_bytes - ip - 40 + payload));
        sum = net_checksum_add(frame + ip + 8, 32, 0);
    } else {
        st16be(frame + ip + 2, (uint16_t)(f->header_bytes - ip + payload));
        st16be(frame + ip + 4, (uint16_t)(ld16be(frame + ip + 4) + index));
        st16be(frame + ip + 10, 0);
        st16be(frame + ip + 10, net_checksum(frame + ip, l4 - ip, 0));
        sum = net_checksum_add(frame + ip + 12, 8, 0);
    }
    if (f->gso == NET_GSO_UDP) {
        st16be(frame + l4 + 4, (uint16_t)l4_size);
        st16be(frame + l4 + 6, 0);
        sum += 17 + (uint32_t)l4_size;
        sum = net_checksum(frame + l4, l4_size, net_checksum_fold(sum));
        st16be(frame + l4 + 6, (uint16_t)(sum ? sum : 0xFFFF));
        return;
    }
    st32be(frame + l4 + 4, ld32be(frame + l4 + 4) + done);
    if (!last)
        frame[l4 + 13] &= (uint8_t)~0x09; /* FIN and PSH belong to the last segment */
    if (index)
        frame[l4 + 13] &= (uint8_t)~0x80; /* CWR to the first */
    st16be(frame + l4 + 16, 0);
    sum += 6 + (uint32_t)l4_size;
    st16be(frame + l4 + 16, net_checksum(frame + l4, l4_size, net_checksum_fold(sum)));
}

EMU_PRIV int net_frame_cut(const struct net_frame *f, int (*each)(void *opaque, const struct net_frame *plain), void *opaque)
{
    static const size_t max_headers = 256;
    uint8_t *bytes;
    size_t ip, l4, offset, total;
    uint32_t index = 0;
    int delivered = 0;
    if (f->gso == NET_GSO_NONE) {
        if (f->size > NET_PLAIN_MAX)
            return 0;
        bytes = malloc(f->size);
        if (!bytes)
            return 0;
        net_frame_copy(f, 0, bytes, f->size);
        if (f->needs_csum && (size_t)f->csum_start + f->csum_offset + 2 <= f->size && f->csum_start <= f->size) {
            uint16_t sum = net_checksum(bytes + f->csum_start, f->size - f->csum_start, 0);
            if (!sum && f->csum_offset == 6) /* UDP: zero means none */
                sum = 0xFFFF;
            st16be(bytes + f->csum_start + f->csum_offset, sum);
        }
        delivered = net_frame_flat(bytes, f->size, each, opaque) ? 1 : 0;
        free(bytes);
        return delivered;
    }
    if (!f->gso_size || f->header_bytes > max_headers || f->header_bytes >= f->size)
        return 0;
    bytes = malloc((size_t)f->header_bytes + f->gso_size);
    if (!bytes)
        return 0;
    net_frame_copy(f, 0, bytes, f->header_bytes);
    ip = ld16be(bytes + 12) == 0x8100 ? 18 : 14;
    l4 = f->gso == NET_GSO_TCP6 ? f->csum_start : ip + (size_t)(bytes[ip] & 15) * 4;
    total = f->size - f->header_bytes;
    if (l4 + (f->gso == NET_GSO_UDP ? 8 : 20) <= f->header_bytes)
        for (offset = 0; offset < total; offset += f->gso_size, index++) {
            size_t payload = EMU_MIN(total - offset, (size_t)f->gso_size);
            net_frame_copy(f, 0, bytes, f->header_bytes);
            net_frame_copy(f, f->header_bytes + offset, bytes + f->header_bytes, payload);
            net_cut_headers(bytes, f, ip, l4, payload, index, (uint32_t)offset, offset + payload == total);
            if (!net_frame_flat(bytes, f->header_bytes + payload, each, opaque))
                break;
            delivered++;
        }
    free(bytes);
    return delivered;
}

/* ---- ports ---- */

EMU_PRIV void net_port_register(struct emu *e, struct net_port *p)
{
    struct net_port **end = &e->net_ports;
    p->emu = e;
    while (*end)
        end = &(*end)->next;
    p->next = NULL;
    *end = p;
}

EMU_PRIV void net_port_unregister(struct emu *e, struct net_port *p)
{
    struct net_port **at;
    while (p->filters) {
        struct net_filter *f = p->filters;
        net_filter_detach(f);
        if (f->destroy)
            f->destroy(f);
    }
    if (p->peer) {
        p->peer->peer = NULL;
        p->peer = NULL;
    }
    for (at = &e->net_ports; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            return;
        }
}

EMU_PRIV struct net_port *net_port_find(struct emu *e, const char *name)
{
    struct net_port *p;
    for (p = e->net_ports; p; p = p->next)
        if (!strcmp(p->name, name))
            return p;
    return NULL;
}

EMU_PRIV int net_port_connect(struct net_port *a, struct net_port *b, struct err *err)
{
    if (a->peer || b->peer)
        return err_set(err, EMU_EBUSY, "network backend \"%s\" is connected already", a->peer ? a->name : b->name);
    a->peer = b;
    b->peer = a;
    return 0;
}

EMU_PRIV void net_set_link(struct net_port *p, bool up)
{
    if (p->link_down == !up)
        return;
    p->link_down = !up;
    if (p->link_changed)
        p->link_changed(p);
    if (p->peer && p->peer->link_changed)
        p->peer->link_changed(p->peer);
}

struct net_cut_target {
    struct net_port *port;
    bool took_any;
};

static int net_cut_receive(void *opaque, const struct net_frame *plain)
{
    struct net_cut_target *t = opaque;
    if (!t->port->receive(t->port, plain))
        return 0;
    t->took_any = true;
    return 1;
}

/* To a port that can take it as it is, or cut for it. 0: full. A super-frame that was taken in part counts as taken; TCP sends the rest again. */
static int net_give(struct net_port *to, const struct net_frame *f)
{
    struct net_cut_target target;
    int cut;
    if (!to->receive)
        return 1;
    if (to->can_receive && !to->can_receive(to))
        return 0;
    if ((f->gso == NET_GSO_NONE || to->takes_gso) && (!f->needs_csum || to->takes_csum))
        cut = to->receive(to, f);
    else {
        target.port = to;
        target.took_any = false;
        net_frame_cut(f, net_cut_receive, &target);
        cut = target.took_any;
    }
    if (cut) {
        to->frames_in++;
        to->bytes_in += f->size;
    }
    return cut;
}

static bool net_filtered(struct net_port *p, enum net_direction d, const struct net_frame *f)
{
    struct net_filter *filter;
    for (filter = p->filters; filter; filter = filter->next)
        if (filter->frame(filter, d, f))
            return true;
    return false;
}

EMU_PRIV int net_send(struct net_port *from, const struct net_frame *f)
{
    struct net_port *to = from->peer;
    if (!to || from->link_down || to->link_down) {
        from->drops_in++;
        return 1;
    }
    if ((from->filters || to->filters)) {
        if (to->can_receive && !to->can_receive(to)) /* a filter must not see a frame twice */
            return 0;
        if (net_filtered(from, NET_TO_PEER, f) || net_filtered(to, NET_FROM_PEER, f))
            return 1;
    }
    return net_give(to, f);
}

EMU_PRIV void net_deliver(struct net_port *port, enum net_direction d, const struct net_frame *f)
{
    struct net_port *to = d == NET_TO_PEER ? port->peer : port;
    if (!to || to->link_down || !net_give(to, f))
        port->drops_in++;
}

EMU_PRIV bool net_can_send(struct net_port *from)
{
    struct net_port *to = from->peer;
    return !to || from->link_down || to->link_down || !to->can_receive || to->can_receive(to);
}

EMU_PRIV void net_kick_peer(struct net_port *p)
{
    if (p->peer && p->peer->kick)
        p->peer->kick(p->peer);
}

EMU_PRIV void net_filter_attach(struct net_port *p, struct net_filter *f)
{
    struct net_filter **end = &p->filters;
    while (*end)
        end = &(*end)->next;
    f->port = p;
    f->next = NULL;
    *end = f;
}

EMU_PRIV void net_filter_detach(struct net_filter *f)
{
    struct net_filter **at;
    for (at = &f->port->filters; *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            return;
        }
}

/* ---- hubs ---- */

struct hub_port {
    struct net_port port;
    uint64_t hub;
};

static struct hub_port *hub_next(struct hub_port *self, struct net_port *after)
{
    struct net_port *p = after ? after->next : self->port.emu->net_ports;
    for (; p; p = p->next)
        if (p != &self->port && !strcmp(p->model, "hubport") && ((struct hub_port *)p->opaque)->hub == self->hub && p->peer)
            return p->opaque;
    return NULL;
}

/* Another port of the hub exists beside the first: then nobody waits for the slowest. */
static bool hub_is_pair(struct hub_port *self)
{
    struct hub_port *first = hub_next(self, NULL);
    return first && !hub_next(self, &first->port);
}

static bool hub_can_receive(struct net_port *p)
{
    struct hub_port *self = p->opaque;
    return !hub_is_pair(self) || net_can_send(&hub_next(self, NULL)->port);
}

static int hub_receive(struct net_port *p, const struct net_frame *f)
{
    struct hub_port *self = p->opaque, *other;
    if (hub_is_pair(self))
        return net_send(&hub_next(self, NULL)->port, f);
    for (other = hub_next(self, NULL); other; other = hub_next(self, &other->port))
        if (!net_send(&other->port, f))
            other->port.drops_in++;
    return 1;
}

/* The receiver behind this port has room again: its senders are behind all the others. */
static void hub_kick(struct net_port *p)
{
    struct hub_port *self = p->opaque, *other;
    for (other = hub_next(self, NULL); other; other = hub_next(self, &other->port))
        net_kick_peer(&other->port);
}

static void hub_destroy(struct net_port *p)
{
    struct emu *e = p->emu;
    net_port_unregister(e, p);
    emu_free(e, p->opaque);
}

static struct hub_port *hub_port_create(struct emu *e, uint64_t hub, const char *id, struct err *err)
{
    struct hub_port *h = emu_alloc(e, sizeof *h);
    if (!h) {
        err_set(err, EMU_ENOMEM, "out of memory");
        return NULL;
    }
    h->hub = hub;
    snprintf(h->port.name, sizeof h->port.name, "%s", id);
    snprintf(h->port.model, sizeof h->port.model, "hubport");
    h->port.opaque = h;
    h->port.can_receive = hub_can_receive;
    h->port.receive = hub_receive;
    h->port.kick = hub_kick;
    h->port.destroy = hub_destroy;
    /* each outgoing port cuts for itself what its peer can't take */
    h->port.takes_gso = h->port.takes_csum = true;
    h->port.max_frame = NET_PLAIN_MAX;
    net_port_register(e, &h->port);
    return h;
}

EMU_PRIV int netdev_hubport_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    uint64_t hub = 0;
    const char *netdev = options_get(opts, "netdev");
    struct net_port *peer = NULL;
    struct hub_port *h;
    if (!options_get(opts, "hubid"))
        return err_set(err, EMU_EINVAL, "%s: needs hubid=NUMBER", opts->origin);
    if (options_u64(opts, "hubid", 0, INT32_MAX, &hub, err))
        return EMU_EINVAL;
    if (netdev && !(peer = net_port_find(e, netdev)))
        return err_set(err, EMU_ENOENT, "%s: there is no -netdev with id=%s before it", opts->origin, netdev);
    h = hub_port_create(e, hub, id, err);
    if (!h)
        return EMU_ENOMEM;
    *out = &h->port;
    return peer ? net_port_connect(&h->port, peer, err) : 0;
}

/* ---- the command line ---- */

static const struct netdev_class netdev_classes[] = {
    { "user", "our own NAT", netdev_user_create },
    { "tap", "a tap interface of the host", netdev_tap_create },
    { "bridge", "a tap on a bridge of the host", netdev_bridge_create },
    { "socket", "frames over TCP or UDP, old style", netdev_socket_create },
    { "stream", "frames over a stream socket", netdev_stream_create },
    { "dgram", "frames over datagrams", netdev_dgram_create },
    { "hubport", "a port of a hub", netdev_hubport_create },
    { "embed", "the embedding program's own", netdev_embed_create },
};

static int netdev_create(struct emu *e, const char *type, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    size_t i;
    int r;
    *out = NULL;
    if (net_port_find(e, id))
        return err_set(err, EMU_EEXIST, "%s: there is a network backend with id %s already", opts->origin, id);
    for (i = 0; i < EMU_ARRAY_LEN(netdev_classes); i++)
        if (!strcmp(netdev_classes[i].type, type)) {
            r = netdev_classes[i].create(e, id, opts, out, err);
            if (!r)
                r = options_check_used(opts, err);
            if (r && *out) {
                (*out)->destroy(*out);
                *out = NULL;
            }
            return r;
        }
    if (!strcmp(type, "vde") || !strcmp(type, "l2tpv3") || !strcmp(type, "vhost-user") || !strcmp(type, "vhost-vdpa") || !strcmp(type, "netmap") || !strcmp(type, "passt"))
        return err_set(err, EMU_ENOTSUP, "%s: type %s is not supported yet", opts->origin, type);
    return err_set(err, EMU_EINVAL, "%s: unknown type \"%s\"; user, tap, bridge, socket, stream, dgram and hubport are known", opts->origin, type);
}

EMU_PRIV int net_netdev_add(struct emu *e, struct options *opts, struct err *err)
{
    const char *type = options_get(opts, "type"), *id = options_get(opts, "id");
    struct net_port *port;
    if (!type || !id)
        return err_set(err, EMU_EINVAL, "%s: needs a type and id=NAME", opts->origin);
    return netdev_create(e, type, id, opts, &port, err);
}

EMU_PRIV int mac_parse(const char *text, uint8_t mac[6])
{
    unsigned i, digit[2];
    char separator = text[0] && text[1] ? text[2] : 0;
    if (separator != ':' && separator != '-')
        return EMU_EINVAL;
    for (i = 0; i < 6; i++, text += 3) {
        unsigned k;
        for (k = 0; k < 2; k++) {
            const char *hex = "0123456789abcdef", *at = text[k] ? strchr(hex, text[k] >= 'A' && text[k] <= 'F' ? text[k] | 0x20 : text[k]) : NULL;
            if (!at)
                return EMU_EINVAL;
            digit[k] = (unsigned)(at - hex);
        }
        mac[i] = (uint8_t)(digit[0] << 4 | digit[1]);
        if (text[2] != (i < 5 ? separator : 0))
            return EMU_EINVAL;
    }
    return mac[0] & 1 ? EMU_EINVAL : 0;
}

EMU_PRIV int net_mac_option(struct emu *e, struct options *opts, uint8_t mac[6], struct err *err)
{
    static const uint8_t first[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
    const char *text = options_get(opts, "mac");
    if (!text) {
        memcpy(mac, first, 6);
        mac[5] = (uint8_t)(mac[5] + e->nic_count++);
        return 0;
    }
    if (mac_parse(text, mac))
        return err_set(err, EMU_EINVAL, "%s: mac=%s is not a station's address (like 52:54:00:12:34:56, first byte even)", opts->origin, text);
    return 0;
}

EMU_PRIV int net_nic_attach(struct emu *e, struct net_port *nic, struct options *opts, struct err *err)
{
    const char *netdev = options_get(opts, "netdev");
    struct net_port *peer;
    if (!netdev)
        return 0;
    peer = net_port_find(e, netdev);
    if (!peer)
        return err_set(err, EMU_ENOENT, "%s: there is no -netdev with id=%s", opts->origin, netdev);
    return net_port_connect(nic, peer, err);
}

/* Asks the board for a NIC on the given backend. */
static int net_add_nic(struct emu *e, struct options *line, const char *netdev, struct err *err)
{
    const char *model = line ? options_get(line, "model") : NULL, *mac = line ? options_get(line, "mac") : NULL;
    const char *name = line ? options_get(line, "name") : NULL, *addr = line ? options_get(line, "addr") : NULL;
    struct net_nic *nic = emu_alloc(e, sizeof *nic), **end = &e->nics;
    (void)addr;
    if (!nic)
        return err_set(err, EMU_ENOMEM, "out of memory");
    snprintf(nic->model, sizeof nic->model, "%s", model ? model : "e1000");
    snprintf(nic->netdev, sizeof nic->netdev, "%s", netdev ? netdev : "");
    snprintf(nic->mac, sizeof nic->mac, "%s", mac ? mac : "");
    snprintf(nic->id, sizeof nic->id, "%s", name ? name : "");
    while (*end)
        end = &(*end)->next;
    *end = nic;
    return 0;
}

/* -net and the members of hub 0. */
static int net_hub_member(struct emu *e, struct options *opts, const char *type, unsigned n, struct err *err)
{
    char hub_id[32], id[32];
    struct hub_port *h;
    struct net_port *port;
    const char *name;
    snprintf(hub_id, sizeof hub_id, "hub0port%u", n);
    h = hub_port_create(e, 0, hub_id, err);
    if (!h)
        return EMU_ENOMEM;
    if (!strcmp(type, "nic"))
        return net_add_nic(e, opts, hub_id, err);
    name = opts ? options_get(opts, "name") : NULL;
    snprintf(id, sizeof id, "#net%03u", n);
    if (opts) {
        int r = netdev_create(e, type, name ? name : id, opts, &port, err);
        if (r)
            return r;
    } else {
        struct options none;
        int r = options_parse(&none, e, "-net", "user", "type", err);
        if (r)
            return r;
        options_get(&none, "type");
        r = netdev_create(e, type, id, &none, &port, err);
        options_free(&none);
        if (r)
            return r;
    }
    return net_port_connect(&h->port, port, err);
}

static int net_nic_line(struct emu *e, struct options *opts, const char *type, unsigned n, struct err *err)
{
    char id[32];
    const char *given = options_get(opts, "id");
    struct net_port *port;
    int r;
    if (!strcmp(type, "nic"))
        return err_set(err, EMU_EINVAL, "%s: -nic takes a backend (like -nic user)", opts->origin);
    options_get(opts, "model"), options_get(opts, "mac"), options_get(opts, "addr");
    snprintf(id, sizeof id, "#nic%03u", n);
    r = netdev_create(e, type, given ? given : id, opts, &port, err);
    return r ? r : net_add_nic(e, opts, given ? given : id, err);
}

EMU_PRIV int net_create(struct emu *e, struct err *err)
{
    struct config *c = &e->config;
    struct config_line *line;
    unsigned hub = 0, nic = 0;
    bool any_nic = false, any_net = false, none = false;
    int r;
    for (line = c->netdevs; line; line = line->next)
        if ((r = net_netdev_add(e, &line->opts, err)))
            return r;
    for (line = c->nics; line; line = line->next) {
        const char *type = options_get(&line->opts, "type");
        bool is_net = !strncmp(line->opts.origin, "-net ", 5);
        if (!type)
            return err_set(err, EMU_EINVAL, "%s: needs a type", line->opts.origin);
        if (!strcmp(type, "none")) {
            none = true;
            continue;
        }
        if (is_net) {
            any_net = true;
            any_nic |= !strcmp(type, "nic");
            r = net_hub_member(e, &line->opts, type, hub++, err);
        } else {
            r = net_nic_line(e, &line->opts, type, nic++, err);
        }
        if (!r)
            r = options_check_used(&line->opts, err);
        if (r)
            return r;
    }
    /* No network option at all is -net nic -net user; -net user alone gets the card too. */
    if (!c->nics && !c->netdevs && !c->no_defaults && !none) {
        if ((r = net_hub_member(e, NULL, "user", hub++, err)) || (r = net_hub_member(e, NULL, "nic", hub++, err)))
            return r;
    } else if (any_net && !any_nic) {
        if ((r = net_hub_member(e, NULL, "nic", hub++, err)))
            return r;
    }
    for (line = c->objects; line; line = line->next) {
        const char *type = options_get(&line->opts, "qom-type");
        if (type && !strcmp(type, "filter-dump"))
            r = filter_dump_create(e, &line->opts, err);
        else if (type && !strcmp(type, "filter-impair"))
            r = filter_impair_create(e, &line->opts, err);
        else if (type && (!strncmp(type, "memory-backend-", 15) || !strncmp(type, "rng-", 4) || !strcmp(type, "iothread") || !strcmp(type, "secret")))
            r = err_set(err, EMU_ENOTSUP, "%s: not supported yet", line->opts.origin);
        else
            r = err_set(err, EMU_EINVAL, "%s: unknown object; filter-dump and filter-impair are known", line->opts.origin);
        if (!r)
            r = options_check_used(&line->opts, err);
        if (r)
            return r;
    }
    return 0;
}

EMU_PRIV void net_destroy(struct emu *e)
{
    while (e->nics) {
        struct net_nic *n = e->nics;
        e->nics = n->next;
        emu_free(e, n);
    }
    while (e->net_ports) {
        struct net_port *p = e->net_ports;
        if (p->destroy)
            p->destroy(p);
        else
            net_port_unregister(e, p);
    }
}

EMU_PRIV void net_print_info(struct emu *e, struct buf *out)
{
    struct net_port *p;
    for (p = e->net_ports; p; p = p->next) {
        buf_printf(out, "%s: type=%s%s", p->name, p->model, p->link_down ? ",link=down" : "");
        if (p->peer)
            buf_printf(out, ",peer=%s", p->peer->name);
        buf_printf(out, ",frames=%" PRIu64 ",bytes=%" PRIu64 ",drops=%" PRIu64, p->frames_in, p->bytes_in, p->drops_in);
        if (p->info) {
            buf_printf(out, ",");
            p->info(p, out);
        }
        buf_printf(out, "\n");
    }
}
#undef NET_PLAIN_MAX

/* ======================================== src/front/options.c ======================================== */

/* front/options.c - the command line.
 *
 * Models     QEMU's spelling and defaults (its invocation manual), for the rows of the table below.
 * Contract   front_parse() fills emu->config and struct front and builds nothing; board.c and api.c build from them.
 * Theory     One table row an option: name, argument, help group and text, and a function or a place to store the value. Rows without
 *            either are known to QEMU but not to us yet: they end with "not supported yet".
 * Invariants 1. Nothing on the command line is ignored silently: each option is obeyed, noted on stderr, or an error.
 *            2. Option strings are copied: argv may go away.
 */

struct cmd_option;
struct cmd_state {
    struct emu *emu;
    struct front *front;
    const struct cmd_option *option;
    bool printed; /* help or version: stop, status 0 */
    unsigned next_disk;
    bool rtc_given;
};
typedef int (*cmd_fn)(struct cmd_state *s, const char *arg, struct err *err);
enum cmd_group { CMD_MACHINE, CMD_BLOCK, CMD_NET, CMD_CHAR, CMD_DISPLAY, CMD_BOOT, CMD_DEBUG, CMD_OLD };
struct cmd_option {
    const char *name, *arg; /* arg NULL: none */
    enum cmd_group group;
    const char *help; /* NULL: not listed */
    cmd_fn fn;        /* NULL: not supported yet */
};

static int cmd_set_string(struct cmd_state *s, char **to, const char *value)
{
    emu_free(s->emu, *to);
    *to = emu_strdup(s->emu, value);
    return *to ? 0 : EMU_ENOMEM;
}

EMU_PRIV struct config_line *front_add_line(struct emu *e, struct config_line **list, const char *origin, const char *text, const char *implied, struct err *err)
{
    struct config_line *line = emu_alloc(e, sizeof *line);
    if (!line) {
        err_set(err, EMU_ENOMEM, "%s %s: out of memory", origin, text);
        return NULL;
    }
    if (options_parse(&line->opts, e, origin, text, implied, err)) {
        emu_free(e, line);
        return NULL;
    }
    while (*list)
        list = &(*list)->next;
    *list = line;
    return line;
}

static int cmd_add(struct cmd_state *s, struct config_line **list, const char *text, const char *implied, struct err *err)
{
    char origin[40];
    snprintf(origin, sizeof origin, "-%s", s->option->name);
    return front_add_line(s->emu, list, origin, text, implied, err) ? 0 : EMU_EINVAL;
}

static int cmd_bad(struct cmd_state *s, const char *arg, const char *why, struct err *err)
{
    return err_set(err, EMU_EINVAL, "-%s %s: %s", s->option->name, arg ? arg : "", why);
}

/* ---- machine ---- */

static int cmd_help(struct cmd_state *s, const char *arg, struct err *err);

static int cmd_version(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    printf("emu version " EMU_VERSION "\n");
    s->printed = true;
    return 0;
}

static bool cmd_wants_help(const char *arg) { return !strcmp(arg, "help") || !strcmp(arg, "?"); }

static int cmd_accel_name(struct cmd_state *s, const char *name, struct err *err)
{
    size_t n = strcspn(name, ",:");
    if (!strncmp(name, "tcg", n) && n == 3)
        return 0;
    if ((n == 3 && (!strncmp(name, "kvm", n) || !strncmp(name, "hvf", n))) || (n == 4 && !strncmp(name, "whpx", n))) {
        const char *rest = strchr(name, ':');
        if (!rest)
            emu_log(s->emu, LOG_NOTICE, "-%s%s%.*s: this emulator has no %.*s; running on its own core", s->option->name,
                    s->option->arg ? " " : "", s->option->arg ? (int)n : 0, name, (int)n, name);
        return 0;
    }
    return err_set(err, EMU_EINVAL, "-%s: unknown accelerator \"%.*s\"; this emulator has its own core only (tcg is accepted as its name)", s->option->name, (int)n, name);
}

static int cmd_accel(struct cmd_state *s, const char *arg, struct err *err)
{
    if (cmd_wants_help(arg)) {
        printf("Accelerators supported:\ntcg (the emulator's own core; no JIT)\n");
        s->printed = true;
        return 0;
    }
    return cmd_accel_name(s, arg, err);
}

static int cmd_enable_kvm(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    emu_log(s->emu, LOG_NOTICE, "-%s: this emulator has no KVM; running on its own core", s->option->name);
    return 0;
}

static int cmd_machine(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *type, *accel;
    bool flag = true, ignored = false;
    int r;
    if (cmd_wants_help(arg)) {
        printf("Supported machines are:\npc                   i440FX + PIIX3 (default)\n");
        s->printed = true;
        return 0;
    }
    if ((r = options_parse(&o, s->emu, "-machine", arg, "type", err)))
        return r;
    type = options_get(&o, "type");
    accel = options_get(&o, "accel");
    if (type && strcmp(type, "pc") && strncmp(type, "pc-i440fx-", 10)) {
        if (!strcmp(type, "q35") || !strncmp(type, "pc-q35-", 7) || !strcmp(type, "microvm") || !strcmp(type, "isapc"))
            r = err_set(err, EMU_ENOTSUP, "-machine %s: not supported yet; use pc", type);
        else
            r = err_set(err, EMU_EINVAL, "-machine %s: unknown machine; `-machine help` lists them", type);
    }
    if (!r && accel)
        r = cmd_accel_name(s, accel, err);
    if (!r)
        r = options_bool(&o, "acpi", &flag, err);
    if (!r && !flag)
        s->emu->config.no_acpi = true;
    flag = true;
    if (!r)
        r = options_bool(&o, "hpet", &flag, err);
    if (!r && !flag)
        s->emu->config.no_hpet = true;
    /* what changes nothing here: accepted */
    if (!r)
        r = options_bool(&o, "usb", &ignored, err);
    if (!r && ignored)
        r = err_set(err, EMU_ENOTSUP, "-machine usb=on: not supported yet");
    options_get(&o, "kernel_irqchip"), options_get(&o, "kernel-irqchip"), options_get(&o, "vmport"), options_get(&o, "smm"), options_get(&o, "mem-merge"),
        options_get(&o, "dump-guest-core"), options_get(&o, "graphics"), options_get(&o, "i8042"), options_get(&o, "pcspk-audiodev"), options_get(&o, "nvdimm");
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_cpu(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)err;
    if (cmd_wants_help(arg)) {
        struct buf b;
        buf_init(&b, s->emu);
        cpu_print_models(&b);
        if (b.data)
            fputs((char *)b.data, stdout);
        buf_free(&b);
        s->printed = true;
        return 0;
    }
    return cmd_set_string(s, &s->emu->config.cpu_model, arg);
}

#define CMD_MAX_CPUS 64
static int cmd_smp(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    uint64_t cpus = 0, cores = 0, sockets = 0, threads = 0, dies = 1, clusters = 1, maxcpus = 0;
    int r = options_parse(&o, s->emu, "-smp", arg, "cpus", err);
    if (r)
        return r;
    if ((r = options_u64(&o, "cpus", 1, CMD_MAX_CPUS, &cpus, err)) || (r = options_u64(&o, "cores", 1, CMD_MAX_CPUS, &cores, err)) ||
        (r = options_u64(&o, "sockets", 1, CMD_MAX_CPUS, &sockets, err)) || (r = options_u64(&o, "threads", 1, CMD_MAX_CPUS, &threads, err)) ||
        (r = options_u64(&o, "dies", 1, 1, &dies, err)) || (r = options_u64(&o, "clusters", 1, 1, &clusters, err)) ||
        (r = options_u64(&o, "maxcpus", 1, 255, &maxcpus, err)))
        goto done;
    if (!cpus)
        cpus = (sockets ? sockets : 1) * (cores ? cores : 1) * (threads ? threads : 1);
    if (cpus > CMD_MAX_CPUS || (maxcpus && maxcpus < cpus))
        r = err_set(err, EMU_EINVAL, "-smp %s: between 1 and %d CPUs, and maxcpus not below them", arg, CMD_MAX_CPUS);
    else
        r = options_check_used(&o, err);
    if (!r)
        s->emu->config.cpus = (unsigned)cpus;
done:
    options_free(&o);
    return r;
}

/* 1 TiB: the physical address width that CPUID gives. */
#define CMD_MAX_RAM (UINT64_C(1) << 40)
static int cmd_memory(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *size;
    uint64_t bytes = 0;
    int r = options_parse(&o, s->emu, "-m", arg, "size", err);
    if (r)
        return r;
    size = options_get(&o, "size");
    options_get(&o, "slots"), options_get(&o, "maxmem");
    if (!size || parse_size(size, 'm', &bytes) || bytes == 0 || bytes > CMD_MAX_RAM)
        r = err_set(err, EMU_EINVAL, "-m %s: not a memory size between 1M and 1T (like 512, 512M or 2G)", arg);
    else if (bytes < MIB)
        r = err_set(err, EMU_EINVAL, "-m %s: at least 1M is needed (a plain number is MiB)", arg);
    else
        r = options_check_used(&o, err);
    options_free(&o);
    if (!r)
        s->emu->config.ram_bytes = (bytes + 4095) & ~UINT64_C(4095);
    return r;
}

static int cmd_uuid(struct cmd_state *s, const char *arg, struct err *err)
{
    size_t i;
    for (i = 0; arg[i]; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? arg[i] != '-' : !strchr("0123456789abcdefABCDEF", arg[i]))
            break;
    }
    if (arg[i] || i != 36)
        return cmd_bad(s, arg, "not a UUID (like 550e8400-e29b-41d4-a716-446655440000)", err);
    return cmd_set_string(s, &s->emu->config.uuid, arg);
}

static int cmd_name(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *name;
    int r = options_parse(&o, s->emu, "-name", arg, "guest", err);
    if (r)
        return r;
    name = options_get(&o, "guest");
    options_get(&o, "process"), options_get(&o, "debug-threads");
    r = options_check_used(&o, err);
    if (!r && name)
        r = cmd_set_string(s, &s->emu->config.name, name);
    options_free(&o);
    return r;
}

static int cmd_rtc(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    struct options o;
    const char *base, *clock;
    int year, month, day, hour = 0, minute = 0, second = 0, used = 0;
    int r = options_parse(&o, s->emu, "-rtc", arg, "base", err);
    if (r)
        return r;
    base = options_get(&o, "base");
    clock = options_get(&o, "clock");
    options_get(&o, "driftfix");
    if (base && !strcmp(base, "localtime")) {
        c->rtc_localtime = true;
    } else if (base && strcmp(base, "utc")) {
        int n = sscanf(base, "%4d-%2d-%2d%n", &year, &month, &day, &used);
        if (n == 3 && base[used] == 'T') {
            int more = 0;
            n = sscanf(base + used, "T%2d:%2d:%2d%n", &hour, &minute, &second, &more) == 3 ? 3 : 0;
            used += more;
        }
        if (n != 3 || base[used] || month < 1 || month > 12 || day < 1 || day > 31 || year < 1970 || hour > 23 || minute > 59 || second > 59) {
            r = err_set(err, EMU_EINVAL, "-rtc base=%s: not utc, localtime or a date (like 2026-01-31 or 2026-01-31T12:00:00)", base);
        } else { /* days from civil date: Gregorian, era of 400 years, year starting in March */
            int64_t y = year - (month <= 2), era = y / 400, yoe = y - era * 400;
            int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
            c->rtc_base_s = ((era * 146097 + doe - 719468) * 24 + hour) * 3600 + minute * 60 + second;
            c->rtc_base_set = true;
        }
    }
    if (!r && clock) {
        if (!strcmp(clock, "vm"))
            c->rtc_vm_clock = true;
        else if (strcmp(clock, "host") && strcmp(clock, "rt"))
            r = err_set(err, EMU_EINVAL, "-rtc clock=%s: not host, rt or vm", clock);
    }
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_localtime(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    s->emu->config.rtc_localtime = true;
    return 0;
}

static int cmd_icount(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    struct options o;
    const char *shift;
    uint64_t n = 0;
    int r = options_parse(&o, s->emu, "-icount", arg, "shift", err);
    if (r)
        return r;
    shift = options_get(&o, "shift");
    c->icount = true;
    c->icount_auto_sleep = true;
    c->icount_shift = 1; /* 500 MIPS: about what a host does */
    options_get(&o, "align");
    if (shift && strcmp(shift, "auto")) {
        if (parse_u64(shift, 0, 10, &n))
            r = err_set(err, EMU_EINVAL, "-icount shift=%s: not auto or a number from 0 to 10 (nanoseconds per instruction, as a power of two)", shift);
        else
            c->icount_shift = (unsigned)n;
    }
    if (!r)
        r = options_bool(&o, "sleep", &c->icount_auto_sleep, err);
    if (!r && options_get(&o, "rr"))
        r = err_set(err, EMU_ENOTSUP, "-icount rr=: record and replay is not supported yet");
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_seed(struct cmd_state *s, const char *arg, struct err *err)
{
    if (parse_u64(arg, 0, UINT64_MAX, &s->emu->config.seed))
        return cmd_bad(s, arg, "not a number", err);
    s->emu->config.seed_set = true;
    return 0;
}

static int cmd_action(struct cmd_state *s, const char *arg, struct err *err)
{
    struct options o;
    const char *v;
    int r = options_parse(&o, s->emu, "-action", arg, NULL, err);
    if (r)
        return r;
    if ((v = options_get(&o, "reboot"))) {
        if (!strcmp(v, "shutdown"))
            s->emu->config.no_reboot = true;
        else if (strcmp(v, "reset"))
            r = err_set(err, EMU_EINVAL, "-action reboot=%s: not reset or shutdown", v);
    }
    if (!r && (v = options_get(&o, "shutdown"))) {
        if (!strcmp(v, "pause"))
            s->emu->config.no_shutdown = true;
        else if (strcmp(v, "poweroff"))
            r = err_set(err, EMU_EINVAL, "-action shutdown=%s: not poweroff or pause", v);
    }
    options_get(&o, "panic"), options_get(&o, "watchdog");
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

/* A flag of struct config or struct front, by option name. */
static int cmd_flag(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    const char *n = s->option->name;
    (void)arg, (void)err;
    if (!strcmp(n, "no-reboot"))
        c->no_reboot = true;
    else if (!strcmp(n, "no-shutdown"))
        c->no_shutdown = true;
    else if (!strcmp(n, "S"))
        c->start_paused = true;
    else if (!strcmp(n, "snapshot"))
        c->snapshot = true;
    else if (!strcmp(n, "nodefaults"))
        c->no_defaults = true;
    else if (!strcmp(n, "no-acpi"))
        c->no_acpi = true;
    else if (!strcmp(n, "no-hpet"))
        c->no_hpet = true;
    else if (!strcmp(n, "nographic"))
        s->front->nographic = true;
    else if (!strcmp(n, "daemonize"))
        s->front->daemonize = true;
    return 0;
}

/* Options that change nothing in this emulator and that scripts give for QEMU's sake. */
static int cmd_accepted(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)s, (void)arg, (void)err;
    return 0;
}

/* ---- boot ---- */

static int cmd_boot(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    struct options o;
    const char *order;
    uint64_t ms = 0;
    int r = options_parse(&o, s->emu, "-boot", arg, "order", err);
    if (r)
        return r;
    order = options_get(&o, "order");
    if (options_get(&o, "once"))
        order = options_get(&o, "once");
    if (order) {
        size_t i;
        for (i = 0; order[i]; i++)
            if (!strchr("acdnp", order[i]) || strchr(order + i + 1, order[i]))
                break;
        if (order[i] || i >= sizeof c->boot_order)
            r = err_set(err, EMU_EINVAL, "-boot %s: the order is made of a (floppy), c (disk), d (CD), n (network), each once", arg);
        else
            snprintf(c->boot_order, sizeof c->boot_order, "%s", order);
    }
    if (!r)
        r = options_bool(&o, "menu", &c->boot_menu, err);
    if (!r)
        r = options_bool(&o, "strict", &c->boot_strict, err);
    if (!r)
        r = options_u64(&o, "splash-time", 0, 65535, &ms, err);
    c->boot_menu_timeout_ms = (unsigned)ms;
    options_get(&o, "splash"), options_get(&o, "reboot-timeout");
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static int cmd_string(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    const char *n = s->option->name;
    (void)err;
    if (!strcmp(n, "kernel"))
        return cmd_set_string(s, &c->kernel, arg);
    if (!strcmp(n, "initrd"))
        return cmd_set_string(s, &c->initrd, arg);
    if (!strcmp(n, "append"))
        return cmd_set_string(s, &c->append, arg);
    if (!strcmp(n, "bios"))
        return cmd_set_string(s, &c->bios, arg);
    if (!strcmp(n, "L"))
        return cmd_set_string(s, &s->front->firmware_dir, arg);
    if (!strcmp(n, "pidfile"))
        return cmd_set_string(s, &s->front->pidfile, arg);
    if (!strcmp(n, "D"))
        return cmd_set_string(s, &s->front->log_path, arg);
    if (!strcmp(n, "debugcon"))
        return cmd_set_string(s, &s->front->debugcon, arg);
    return cmd_set_string(s, &s->front->gdb, arg); /* -gdb */
}

static int cmd_gdb_default(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    return cmd_set_string(s, &s->front->gdb, "tcp::1234");
}

static int cmd_smbios(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.smbios, arg, NULL, err); }
static int cmd_fw_cfg(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.fw_cfg, arg, "name", err); }

/* ---- disks ---- */

static int cmd_drive_text(struct cmd_state *s, const char *origin, const char *file, const char *rest, struct err *err)
{
    char *text;
    size_t i, n = 0, size = 2 * strlen(file) + strlen(rest) + 16;
    struct config_line *line;
    text = emu_alloc(s->emu, size);
    if (!text)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", origin);
    n = (size_t)snprintf(text, size, "file=");
    for (i = 0; file[i]; i++) { /* a comma in a plain file name is doubled */
        if (file[i] == ',')
            text[n++] = ',';
        text[n++] = file[i];
    }
    snprintf(text + n, size - n, ",%s", rest);
    line = front_add_line(s->emu, &s->emu->config.drives, origin, text, NULL, err);
    if (line) { /* messages show what was written */
        char *shown = emu_alloc(s->emu, strlen(origin) + strlen(file) + 2);
        if (shown) {
            sprintf(shown, "%s%s%s", origin, *origin ? " " : "", file);
            emu_free(s->emu, line->opts.origin);
            line->opts.origin = shown;
        }
    }
    emu_free(s->emu, text);
    return line ? 0 : EMU_EINVAL;
}

static int cmd_disk(struct cmd_state *s, const char *arg, struct err *err)
{
    const char *n = s->option->name;
    char origin[16], rest[48];
    snprintf(origin, sizeof origin, "-%s", n);
    if (!strncmp(n, "hd", 2))
        snprintf(rest, sizeof rest, "if=ide,index=%d,media=disk", n[2] - 'a');
    else if (!strncmp(n, "fd", 2))
        snprintf(rest, sizeof rest, "if=floppy,index=%d", n[2] - 'a');
    else
        snprintf(rest, sizeof rest, "if=ide,index=2,media=cdrom");
    return cmd_drive_text(s, origin, arg, rest, err);
}

static int cmd_drive(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.drives, arg, NULL, err); }

/* ---- devices, network, characters ---- */

static int cmd_device(struct cmd_state *s, const char *arg, struct err *err)
{
    size_t n = strcspn(arg, ",");
    if (cmd_wants_help(arg)) {
        const struct device_class *c;
        size_t i;
        for (i = 0; (c = device_class_at(i)); i++)
            if (c->user_creatable)
                printf("name \"%s\", bus %s, desc \"%s\"\n", c->name, c->bus, c->help);
        s->printed = true;
        return 0;
    }
    if (arg[n] && cmd_wants_help(arg + n + 1)) {
        char name[64];
        const struct device_class *c;
        const struct opt_desc *o;
        snprintf(name, sizeof name, "%.*s", (int)n, arg);
        c = device_class_find(name);
        if (!c || !c->user_creatable)
            return err_set(err, EMU_EINVAL, "-device %s: unknown device; `-device help` lists them", name);
        printf("%s options:\n", name);
        for (o = c->options; o && o->name; o++)
            printf("  %s=<%s>  %s\n", o->name, o->type, o->help);
        s->printed = true;
        return 0;
    }
    return cmd_add(s, &s->emu->config.devices, arg, "driver", err);
}

static int cmd_netdev(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.netdevs, arg, "type", err); }
static int cmd_nic(struct cmd_state *s, const char *arg, struct err *err)
{
    return cmd_add(s, &s->emu->config.nics, arg, "type", err); /* origin tells -net from -nic */
}
static int cmd_object(struct cmd_state *s, const char *arg, struct err *err) { return cmd_add(s, &s->emu->config.objects, arg, "qom-type", err); }

static int cmd_serial(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    s->front->serial_given = true;
    if (s->front->serial_count == EMU_ARRAY_LEN(c->serial))
        return cmd_bad(s, arg, "a PC has four serial ports", err);
    return cmd_set_string(s, &c->serial[s->front->serial_count++], arg);
}

static int cmd_parallel(struct cmd_state *s, const char *arg, struct err *err)
{
    struct config *c = &s->emu->config;
    if (s->front->parallel_count == EMU_ARRAY_LEN(c->parallel))
        return cmd_bad(s, arg, "a PC has three parallel ports", err);
    return cmd_set_string(s, &c->parallel[s->front->parallel_count++], arg);
}

static int cmd_monitor(struct cmd_state *s, const char *arg, struct err *err)
{
    struct front *f = s->front;
    f->monitor_given = true;
    if (!strcmp(arg, "none"))
        return 0;
    if (f->monitor_count == EMU_ARRAY_LEN(f->monitor))
        return cmd_bad(s, arg, "too many monitors", err);
    return cmd_set_string(s, &f->monitor[f->monitor_count++], arg);
}

static int cmd_chardev(struct cmd_state *s, const char *arg, struct err *err)
{
    if (cmd_wants_help(arg)) {
        printf("Available chardev backend types:\n  null\n  stdio\n  file\n  pipe\n  pty\n  socket\n  udp\n  ringbuf\n");
        s->printed = true;
        return 0;
    }
    return cmd_add(s, &s->front->chardevs, arg, "backend", err);
}
static int cmd_mon(struct cmd_state *s, const char *arg, struct err *err)
{
    s->front->monitor_given = true;
    return cmd_add(s, &s->front->mons, arg, "chardev", err);
}

static int cmd_echr(struct cmd_state *s, const char *arg, struct err *err)
{
    uint64_t n;
    if (parse_u64(arg, 0, 31, &n))
        return cmd_bad(s, arg, "not the number of a control character (0x01 to 0x1f)", err);
    s->front->echr = (int)n;
    return 0;
}

/* ---- display ---- */

static int cmd_display(struct cmd_state *s, const char *arg, struct err *err)
{
    size_t n = strcspn(arg, ",");
    if (cmd_wants_help(arg)) {
        printf("Available display backend types:\nnone\ncurses\n");
        s->printed = true;
        return 0;
    }
    if (n == 4 && !strncmp(arg, "none", n))
        s->front->display = DISPLAY_NONE;
    else if (n == 6 && !strncmp(arg, "curses", n))
        s->front->display = DISPLAY_CURSES;
    else if ((n == 3 && (!strncmp(arg, "sdl", n) || !strncmp(arg, "gtk", n) || !strncmp(arg, "vnc", n))) || !strncmp(arg, "egl-headless", n) ||
             !strncmp(arg, "cocoa", n) || !strncmp(arg, "dbus", n) || !strncmp(arg, "spice-app", n))
        return err_set(err, EMU_ENOTSUP, "-display %.*s: not supported yet; use none or curses", (int)n, arg);
    else
        return cmd_bad(s, arg, "unknown display; use none or curses", err);
    return 0;
}

static int cmd_curses(struct cmd_state *s, const char *arg, struct err *err)
{
    (void)arg, (void)err;
    s->front->display = DISPLAY_CURSES;
    return 0;
}

static int cmd_vga(struct cmd_state *s, const char *arg, struct err *err)
{
    if (cmd_wants_help(arg)) {
        printf("none                 no graphic card\nstd                  standard VGA (default)\n");
        s->printed = true;
        return 0;
    }
    if (!strcmp(arg, "virtio") || !strcmp(arg, "cirrus") || !strcmp(arg, "qxl") || !strcmp(arg, "vmware"))
        return err_set(err, EMU_ENOTSUP, "-vga %s: not supported yet; use std or none", arg);
    if (strcmp(arg, "std") && strcmp(arg, "none"))
        return cmd_bad(s, arg, "unknown graphics card; use std or none", err);
    return cmd_set_string(s, &s->emu->config.vga, arg);
}

/* ---- debug ---- */

static int cmd_log(struct cmd_state *s, const char *arg, struct err *err)
{
    static const struct {
        const char *name;
        unsigned mask;
        const char *help;
    } items[] = {
        { "int", LOG_INT, "interrupts and exceptions as they are delivered" },
        { "cpu_reset", LOG_CPU_RESET, "CPU state before a reset" },
        { "guest_errors", LOG_GUEST_ERROR, "what a guest does that no hardware would answer sensibly" },
        { "in_asm", LOG_IN_ASM, "instructions when they are first translated" },
        { "exec", LOG_EXEC, "each trace as it is entered" },
        { "cpu", LOG_CPU, "CPU registers before each trace" },
        { "unimp", LOG_UNIMP, "what is not implemented" },
        { "net", LOG_NET, "network stack" },
        { "trace", LOG_TRACE, "trace building" },
    };
    const char *p = arg;
    size_t i;
    if (cmd_wants_help(arg)) {
        printf("Log items (comma separated):\n");
        for (i = 0; i < EMU_ARRAY_LEN(items); i++)
            printf("%-15s %s\n", items[i].name, items[i].help);
        s->printed = true;
        return 0;
    }
    while (*p) {
        size_t n = strcspn(p, ",");
        for (i = 0; i < EMU_ARRAY_LEN(items); i++)
            if (strlen(items[i].name) == n && !strncmp(items[i].name, p, n))
                break;
        if (i < EMU_ARRAY_LEN(items))
            s->emu->log_mask |= items[i].mask;
        else if (n != 7 || strncmp(p, "nochain", n)) /* traces cost no log line: nothing to switch off */
            return err_set(err, EMU_EINVAL, "-d %.*s: unknown log item; `-d help` lists them", (int)n, p);
        p += n + (p[n] == ',');
    }
    return 0;
}

static const struct cmd_option cmd_options[] = {
    { "help", NULL, CMD_MACHINE, "show this", cmd_help },
    { "h", NULL, CMD_MACHINE, NULL, cmd_help },
    { "version", NULL, CMD_MACHINE, "show the version", cmd_version },
    { "machine", "pc[,accel=tcg][,acpi=on|off][,hpet=on|off]", CMD_MACHINE, "the machine: pc (i440FX + PIIX3)", cmd_machine },
    { "M", "pc", CMD_MACHINE, NULL, cmd_machine },
    { "cpu", "MODEL[,+f][,-f]", CMD_MACHINE, "CPU model (default max; help lists them)", cmd_cpu },
    { "accel", "tcg", CMD_MACHINE, "accepted for QEMU's sake", cmd_accel },
    { "enable-kvm", NULL, CMD_MACHINE, "noted: there is no KVM here", cmd_enable_kvm },
    { "smp", "N", CMD_MACHINE, "number of CPUs (default 1)", cmd_smp },
    { "m", "SIZE", CMD_MACHINE, "guest memory in MiB, or with suffix M, G (default 1G)", cmd_memory },
    { "name", "TEXT", CMD_MACHINE, "name of the guest", cmd_name },
    { "uuid", "UUID", CMD_MACHINE, "system UUID (SMBIOS)", cmd_uuid },
    { "rtc", "base=utc|localtime|DATE[,clock=host|vm]", CMD_MACHINE, "real-time clock", cmd_rtc },
    { "icount", "shift=N|auto[,sleep=on|off]", CMD_MACHINE, "virtual time from the instruction count: repeatable runs", cmd_icount },
    { "seed", "N", CMD_MACHINE, "seed of all guest-visible randomness", cmd_seed },
    { "action", "reboot=reset|shutdown,shutdown=poweroff|pause", CMD_MACHINE, "what reset and power-off do", cmd_action },
    { "nodefaults", NULL, CMD_MACHINE, "no default devices", cmd_flag },
    { "no-acpi", NULL, CMD_MACHINE, "no ACPI tables", cmd_flag },
    { "no-hpet", NULL, CMD_MACHINE, "no HPET", cmd_flag },
    { "device", "NAME[,key=value...]", CMD_MACHINE, "add a device (help lists them; NAME,help its options)", cmd_device },
    { "smbios", "type=N[,key=value...]", CMD_MACHINE, "SMBIOS fields", cmd_smbios },
    { "fw_cfg", "[name=]NAME,file=FILE|string=TEXT", CMD_MACHINE, "a file in the firmware configuration device", cmd_fw_cfg },

    { "hda", "FILE", CMD_BLOCK, "first hard disk (a bare FILE means the same); -hdb, -hdc, -hdd", cmd_disk },
    { "hdb", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "hdc", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "hdd", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "cdrom", "FILE", CMD_BLOCK, "CD-ROM image", cmd_disk },
    { "fda", "FILE", CMD_BLOCK, "floppy image; -fdb", cmd_disk },
    { "fdb", "FILE", CMD_BLOCK, NULL, cmd_disk },
    { "drive", "file=FILE[,format=F][,if=ide|floppy|none][,index=N][,media=disk|cdrom][,snapshot=on|off]", CMD_BLOCK, "a drive (more keys in the manual)", cmd_drive },
    { "snapshot", NULL, CMD_BLOCK, "write to temporary files, not to the images", cmd_flag },

    { "netdev", "user|tap|bridge|socket|stream|dgram|hubport,id=ID[,...]", CMD_NET, "a network backend", cmd_netdev },
    { "nic", "user|tap|...|none[,model=M][,mac=A]", CMD_NET, "a network card with its backend", cmd_nic },
    { "net", "nic|user|tap|socket|none[,...]", CMD_NET, "a member of hub 0", cmd_nic },
    { "object", "filter-dump|filter-impair,id=ID,...", CMD_NET, "a filter on a backend", cmd_object },

    { "serial", "DEV", CMD_CHAR, "serial port: stdio, mon:stdio, file:F, pty, null, none, tcp:..., unix:..., telnet:..., pipe:F, chardev:ID", cmd_serial },
    { "parallel", "DEV", CMD_CHAR, "parallel port", cmd_parallel },
    { "monitor", "DEV", CMD_CHAR, "the monitor", cmd_monitor },
    { "mon", "[chardev=]ID", CMD_CHAR, "the monitor on a -chardev", cmd_mon },
    { "chardev", "BACKEND,id=ID[,...]", CMD_CHAR, "a character backend", cmd_chardev },
    { "debugcon", "DEV", CMD_CHAR, "bytes written to port 0xe9", cmd_string },
    { "echr", "N", CMD_CHAR, "escape character of the terminal instead of Ctrl-A (1)", cmd_echr },

    { "display", "none|curses", CMD_DISPLAY, "the screen: nowhere, or text in the terminal", cmd_display },
    { "curses", NULL, CMD_DISPLAY, NULL, cmd_curses },
    { "nographic", NULL, CMD_DISPLAY, "no screen; serial port and monitor on the terminal", cmd_flag },
    { "vga", "std|none", CMD_DISPLAY, "graphics card", cmd_vga },

    { "boot", "[order=]acdn[,menu=on|off][,strict=on|off]", CMD_BOOT, "boot order: a floppy, c disk, d CD", cmd_boot },
    { "kernel", "FILE", CMD_BOOT, "Linux, multiboot or PVH kernel to start", cmd_string },
    { "initrd", "FILE", CMD_BOOT, "initial RAM disk (multiboot: modules)", cmd_string },
    { "append", "TEXT", CMD_BOOT, "kernel command line", cmd_string },
    { "bios", "FILE", CMD_BOOT, "firmware instead of the built-in BIOS", cmd_string },
    { "L", "DIR", CMD_BOOT, "where firmware files are looked for", cmd_string },
    { "no-reboot", NULL, CMD_BOOT, "exit instead of resetting", cmd_flag },
    { "no-shutdown", NULL, CMD_BOOT, "stop instead of exiting", cmd_flag },

    { "S", NULL, CMD_DEBUG, "start paused", cmd_flag },
    { "s", NULL, CMD_DEBUG, "same as -gdb tcp::1234", cmd_gdb_default },
    { "gdb", "tcp::PORT|unix:PATH|stdio", CMD_DEBUG, "wait for a debugger there", cmd_string },
    { "d", "ITEM[,ITEM...]", CMD_DEBUG, "log items (help lists them)", cmd_log },
    { "D", "FILE", CMD_DEBUG, "log to a file instead of stderr", cmd_string },
    { "pidfile", "FILE", CMD_DEBUG, "write the process id there", cmd_string },
    { "daemonize", NULL, CMD_DEBUG, "go to the background once started", cmd_flag },

    { "localtime", NULL, CMD_OLD, NULL, cmd_localtime },
    { "no-user-config", NULL, CMD_OLD, NULL, cmd_accepted },
    { "no-fd-bootchk", NULL, CMD_OLD, NULL, cmd_accepted },
    { "msg", "timestamp=on|off", CMD_OLD, NULL, cmd_accepted },
    { "overcommit", "...", CMD_OLD, NULL, cmd_accepted },
    { "sandbox", "...", CMD_OLD, NULL, cmd_accepted },
    { "k", "LAYOUT", CMD_OLD, NULL, cmd_accepted },
    { "mem-prealloc", NULL, CMD_OLD, NULL, cmd_accepted },
#define CMD_LATER(name, arg) { name, arg, CMD_OLD, NULL, NULL }
    CMD_LATER("usb", NULL), CMD_LATER("usbdevice", "NAME"), CMD_LATER("vnc", "DISPLAY"), CMD_LATER("qmp", "DEV"), CMD_LATER("qmp-pretty", "DEV"),
    CMD_LATER("loadvm", "NAME"), CMD_LATER("incoming", "URI"), CMD_LATER("audiodev", "..."), CMD_LATER("audio", "..."), CMD_LATER("soundhw", "..."),
    CMD_LATER("sdl", NULL), CMD_LATER("spice", "..."), CMD_LATER("virtfs", "..."), CMD_LATER("fsdev", "..."), CMD_LATER("tpmdev", "..."),
    CMD_LATER("numa", "..."), CMD_LATER("readconfig", "FILE"), CMD_LATER("writeconfig", "FILE"), CMD_LATER("trace", "..."), CMD_LATER("blockdev", "..."),
    CMD_LATER("set", "..."), CMD_LATER("global", "..."), CMD_LATER("plugin", "..."), CMD_LATER("runas", "USER"), CMD_LATER("chroot", "DIR"),
    CMD_LATER("dtb", "FILE"), CMD_LATER("acpitable", "..."), CMD_LATER("option-rom", "FILE"), CMD_LATER("mtdblock", "FILE"), CMD_LATER("sd", "FILE"),
    CMD_LATER("pflash", "FILE"), CMD_LATER("full-screen", NULL), CMD_LATER("add-fd", "..."), CMD_LATER("iscsi", "..."), CMD_LATER("preconfig", NULL),
    CMD_LATER("redir", "..."), CMD_LATER("tftp", "DIR"), CMD_LATER("smb", "DIR"), CMD_LATER("watchdog", "NAME"), CMD_LATER("watchdog-action", "ACTION"),
    CMD_LATER("mem-path", "FILE"), CMD_LATER("singlestep", NULL), CMD_LATER("one-insn-per-tb", NULL), CMD_LATER("dfilter", "..."),
    CMD_LATER("semihosting", NULL), CMD_LATER("semihosting-config", "..."), CMD_LATER("prom-env", "..."), CMD_LATER("jitdump", NULL), CMD_LATER("perfmap", NULL),
    CMD_LATER("enable-fips", NULL), CMD_LATER("xen-domid", "ID"), CMD_LATER("nouserconfig", NULL), CMD_LATER("async-teardown", NULL), CMD_LATER("g", "WxH[xD]"),
    CMD_LATER("win2k-hack", NULL), CMD_LATER("bt", "..."), CMD_LATER("portrait", NULL), CMD_LATER("rotate", "N"), CMD_LATER("only-migratable", NULL),
    CMD_LATER("set-compat", "..."), CMD_LATER("compat", "..."), CMD_LATER("dump-vmstate", "FILE"), CMD_LATER("enable-sync-profile", NULL), CMD_LATER("run-with", "..."),
#undef CMD_LATER
};

static int cmd_help(struct cmd_state *s, const char *arg, struct err *err)
{
    static const char *const titles[] = { "Machine", "Disks", "Network", "Serial lines and monitor", "Screen", "Boot", "Debugging" };
    unsigned g;
    size_t i;
    (void)arg, (void)err;
    printf("emu " EMU_VERSION ", a PC in one C file\nusage: emu [options] [disk image]\n");
    for (g = 0; g < EMU_ARRAY_LEN(titles); g++) {
        printf("\n%s:\n", titles[g]);
        for (i = 0; i < EMU_ARRAY_LEN(cmd_options); i++)
            if (cmd_options[i].group == g && cmd_options[i].help)
                printf("-%s%s%s\n                %s\n", cmd_options[i].name, cmd_options[i].arg ? " " : "", cmd_options[i].arg ? cmd_options[i].arg : "",
                       cmd_options[i].help);
    }
    printf("\nIn the terminal: Ctrl-A x ends emu, Ctrl-A c goes to the monitor and back, Ctrl-A h shows more.\n");
    s->printed = true;
    return 0;
}

static const struct cmd_option *cmd_find(const char *name)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(cmd_options); i++)
        if (!strcmp(cmd_options[i].name, name))
            return &cmd_options[i];
    return NULL;
}

/* What the main job's line leaves open. */
static int cmd_defaults(struct cmd_state *s, struct err *err)
{
    struct config *c = &s->emu->config;
    struct front *f = s->front;
    bool terminal = f->program && f->display != DISPLAY_CURSES && !f->daemonize;
    if (!c->cpu_model && cmd_set_string(s, &c->cpu_model, "max"))
        return err_set(err, EMU_ENOMEM, "out of memory");
    if (!c->vga && cmd_set_string(s, &c->vga, c->no_defaults ? "none" : "std"))
        return err_set(err, EMU_ENOMEM, "out of memory");
    if (!c->rtc_base_set) {
        int64_t now = host_wall_ns() / NS_PER_SEC;
        c->rtc_base_s = now + (c->rtc_localtime ? host_local_offset_s(now) : 0);
    }
    if (f->display == DISPLAY_CURSES && f->nographic)
        return err_set(err, EMU_EINVAL, "-nographic and -display curses: both want the terminal; give one of them");
    if (f->nographic)
        f->display = DISPLAY_NONE;
    if (!f->serial_given && (!c->no_defaults || f->nographic) && terminal) {
        bool monitor_has_stdio = f->monitor_count && (!strcmp(f->monitor[0], "stdio") || !strcmp(f->monitor[0], "/dev/stdin"));
        if (monitor_has_stdio) {
            emu_log(s->emu, LOG_NOTICE, "the monitor has the terminal; the guest's serial port is not shown (-serial mon:stdio shows both)");
        } else if (cmd_set_string(s, &c->serial[0], f->monitor_given ? "stdio" : "mon:stdio")) {
            return err_set(err, EMU_ENOMEM, "out of memory");
        }
        f->monitor_given = true;
    } else if (!f->monitor_given && f->nographic && terminal) {
        unsigned i;
        bool taken = false;
        for (i = 0; i < EMU_ARRAY_LEN(c->serial); i++)
            if (c->serial[i] && strstr(c->serial[i], "stdio"))
                taken = true;
        if (!taken && cmd_set_string(s, &f->monitor[f->monitor_count++], "stdio"))
            return err_set(err, EMU_ENOMEM, "out of memory");
    }
    return 0;
}

EMU_PRIV int front_parse(struct emu *e, int argc, const char *const *argv, struct err *err)
{
    struct cmd_state s = { 0 };
    int i, r;
    s.emu = e;
    s.front = front_of(e);
    e->config.ram_bytes = GIB;
    e->config.cpus = 1;
    s.front->echr = 1;
    for (i = 0; i < argc; i++) {
        const char *a = argv[i], *value = NULL;
        if (a[0] != '-' || !a[1]) {
            if ((r = cmd_drive_text(&s, "", a, "if=ide,index=0,media=disk", err)))
                return r;
            continue;
        }
        s.option = cmd_find(a + (a[1] == '-' ? 2 : 1));
        if (!s.option)
            return err_set(err, EMU_EINVAL, "%s: unknown option; -help lists them", a);
        if (s.option->arg && ++i == argc)
            return err_set(err, EMU_EINVAL, "%s: needs an argument: %s %s", a, a, s.option->arg);
        if (s.option->arg)
            value = argv[i];
        if (!s.option->fn)
            return err_set(err, EMU_ENOTSUP, "%s%s%s: not supported yet", a, value ? " " : "", value ? value : "");
        if ((r = s.option->fn(&s, value, err)))
            return r;
        if (s.printed)
            return 1;
    }
    return cmd_defaults(&s, err);
}

static void cmd_free_lines(struct emu *e, struct config_line **list)
{
    while (*list) {
        struct config_line *line = *list;
        *list = line->next;
        options_free(&line->opts);
        emu_free(e, line);
    }
}

EMU_PRIV void front_free_config(struct emu *e)
{
    struct config *c = &e->config;
    struct front *f = front_of(e);
    unsigned i;
    struct config_line **lists[9];
    char **strings[18];
    unsigned n = 0;
    lists[0] = &c->drives, lists[1] = &c->devices, lists[2] = &c->smbios, lists[3] = &c->fw_cfg, lists[4] = &c->netdevs, lists[5] = &c->nics,
    lists[6] = &c->objects, lists[7] = &f->chardevs, lists[8] = &f->mons;
    for (i = 0; i < EMU_ARRAY_LEN(lists); i++)
        cmd_free_lines(e, lists[i]);
    for (i = 0; i < EMU_ARRAY_LEN(c->serial); i++)
        emu_free(e, c->serial[i]);
    for (i = 0; i < EMU_ARRAY_LEN(c->parallel); i++)
        emu_free(e, c->parallel[i]);
    for (i = 0; i < EMU_ARRAY_LEN(f->monitor); i++)
        emu_free(e, f->monitor[i]);
    strings[n++] = &c->cpu_model, strings[n++] = &c->machine, strings[n++] = &c->kernel, strings[n++] = &c->initrd, strings[n++] = &c->append,
    strings[n++] = &c->dtb, strings[n++] = &c->bios, strings[n++] = &c->name, strings[n++] = &c->uuid, strings[n++] = &c->vga, strings[n++] = &f->gdb,
    strings[n++] = &f->debugcon, strings[n++] = &f->pidfile, strings[n++] = &f->log_path, strings[n++] = &f->firmware_dir;
    for (i = 0; i < n; i++) {
        emu_free(e, *strings[i]);
        *strings[i] = NULL;
    }
    memset(c->serial, 0, sizeof c->serial);
    memset(c->parallel, 0, sizeof c->parallel);
    memset(f->monitor, 0, sizeof f->monitor);
}
#undef CMD_MAX_CPUS
#undef CMD_MAX_RAM

/* ======================================== src/front/monitor.c ======================================== */

/* front/monitor.c - the human monitor.
 *
 * Models     QEMU's human monitor: command names, arguments and the shape of the answers that scripts read.
 * Contract   A monitor sits on a struct chr. monitor_command() runs one line and adds the answer to a buffer; the API's emu_monitor() and the
 *            interactive monitors share it.
 * Theory     Two tables: commands, and topics of `info`. A command gets its words split at spaces (quotes keep spaces). Answers are collected
 *            and sent as the line takes them; what it does not take waits in `pending`.
 * Invariants 1. A command never runs inside cpu_run(): lines arrive from the poll round.
 *            2. A bad argument answers one line and changes nothing.
 * Missing    Line editing beyond backspace, Ctrl-U, Ctrl-C, Tab and history; expressions beyond sums of numbers and $registers.
 */

#define MONITOR_LINE_MAX 1024
#define MONITOR_WORDS 16
#define MONITOR_HISTORY 16

struct monitor {
    struct emu *emu;
    struct chr *chr;
    char line[MONITOR_LINE_MAX];
    size_t length;
    unsigned escape; /* state of an ESC [ sequence */
    char *history[MONITOR_HISTORY];
    unsigned history_count, history_at;
    bool greeted;
    struct buf pending;
    struct monitor *next;
};

struct mon_call {
    struct emu *emu;
    struct buf *out;
    char *words[MONITOR_WORDS];
    int count;
};

struct mon_command {
    const char *name, *args, *help;
    void (*run)(struct mon_call *m);
};

/* ---- expressions ---- */

static bool mon_register(struct emu *e, const char *name, uint64_t *value)
{
    static const char *const aliases[][2] = { { "pc", "rip" }, { "eip", "rip" }, { "esp", "rsp" }, { "sp", "rsp" }, { "eax", "rax" }, { "ebx", "rbx" },
        { "ecx", "rcx" }, { "edx", "rdx" }, { "esi", "rsi" }, { "edi", "rdi" }, { "ebp", "rbp" }, { "eflags", "rflags" } };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(aliases); i++)
        if (!strcmp(name, aliases[i][0]))
            name = aliases[i][1];
    return emu_read_register(e, 0, name, value) == 0;
}

/* number | $register, joined by + and -; false: neither. */
static bool mon_expression(struct emu *e, const char *text, uint64_t *value)
{
    uint64_t sum = 0;
    bool minus = false;
    while (*text) {
        char term[32];
        size_t n = strcspn(text, "+-");
        uint64_t v;
        if (!n || n >= sizeof term)
            return false;
        memcpy(term, text, n);
        term[n] = 0;
        if (term[0] == '$' ? !mon_register(e, term + 1, &v) : parse_u64(term, 0, UINT64_MAX, &v) != 0)
            return false;
        sum = minus ? sum - v : sum + v;
        text += n;
        if (*text) {
            minus = *text == '-';
            if (!*++text)
                return false;
        }
    }
    *value = sum;
    return true;
}

/* ---- keys ---- */

EMU_PRIV int front_key_number(const char *name)
{
    static const struct {
        const char *name;
        uint8_t code;
    } keys[] = {
        { "esc", 0x01 }, { "1", 0x02 }, { "2", 0x03 }, { "3", 0x04 }, { "4", 0x05 }, { "5", 0x06 }, { "6", 0x07 }, { "7", 0x08 }, { "8", 0x09 }, { "9", 0x0A },
        { "0", 0x0B }, { "minus", 0x0C }, { "equal", 0x0D }, { "backspace", 0x0E }, { "tab", 0x0F }, { "q", 0x10 }, { "w", 0x11 }, { "e", 0x12 }, { "r", 0x13 },
        { "t", 0x14 }, { "y", 0x15 }, { "u", 0x16 }, { "i", 0x17 }, { "o", 0x18 }, { "p", 0x19 }, { "bracket_left", 0x1A }, { "bracket_right", 0x1B },
        { "ret", 0x1C }, { "enter", 0x1C }, { "ctrl", 0x1D }, { "a", 0x1E }, { "s", 0x1F }, { "d", 0x20 }, { "f", 0x21 }, { "g", 0x22 }, { "h", 0x23 },
        { "j", 0x24 }, { "k", 0x25 }, { "l", 0x26 }, { "semicolon", 0x27 }, { "apostrophe", 0x28 }, { "grave_accent", 0x29 }, { "shift", 0x2A },
        { "backslash", 0x2B }, { "z", 0x2C }, { "x", 0x2D }, { "c", 0x2E }, { "v", 0x2F }, { "b", 0x30 }, { "n", 0x31 }, { "m", 0x32 }, { "comma", 0x33 },
        { "dot", 0x34 }, { "slash", 0x35 }, { "shift_r", 0x36 }, { "asterisk", 0x37 }, { "kp_multiply", 0x37 }, { "alt", 0x38 }, { "spc", 0x39 },
        { "caps_lock", 0x3A }, { "f1", 0x3B }, { "f2", 0x3C }, { "f3", 0x3D }, { "f4", 0x3E }, { "f5", 0x3F }, { "f6", 0x40 }, { "f7", 0x41 }, { "f8", 0x42 },
        { "f9", 0x43 }, { "f10", 0x44 }, { "num_lock", 0x45 }, { "scroll_lock", 0x46 }, { "kp_7", 0x47 }, { "kp_8", 0x48 }, { "kp_9", 0x49 },
        { "kp_subtract", 0x4A }, { "kp_4", 0x4B }, { "kp_5", 0x4C }, { "kp_6", 0x4D }, { "kp_add", 0x4E }, { "kp_1", 0x4F }, { "kp_2", 0x50 }, { "kp_3", 0x51 },
        { "kp_0", 0x52 }, { "kp_decimal", 0x53 }, { "sysrq", 0xB7 }, { "print", 0xB7 }, { "less", 0x56 }, { "f11", 0x57 }, { "f12", 0x58 }, { "kp_enter", 0x9C },
        { "ctrl_r", 0x9D }, { "kp_divide", 0xB5 }, { "alt_r", 0xB8 }, { "altgr", 0xB8 }, { "pause", 0xC6 }, { "home", 0xC7 }, { "up", 0xC8 }, { "pgup", 0xC9 },
        { "left", 0xCB }, { "right", 0xCD }, { "end", 0xCF }, { "down", 0xD0 }, { "pgdn", 0xD1 }, { "insert", 0xD2 }, { "delete", 0xD3 }, { "meta_l", 0xDB },
        { "meta_r", 0xDC }, { "menu", 0xDD },
    };
    uint64_t code;
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(keys); i++)
        if (!strcmp(keys[i].name, name))
            return keys[i].code;
    if (!strncmp(name, "0x", 2) && !parse_u64(name, 1, 255, &code))
        return (int)code;
    return -1;
}

struct mon_release { /* keys held down by sendkey, until a timer lets them go */
    struct emu *emu;
    struct timer timer;
    int keys[8];
    int count;
};

static void mon_release_keys(void *opaque)
{
    struct mon_release *r = opaque;
    while (r->count)
        input_key(r->emu, r->keys[--r->count], false);
    emu_free(r->emu, r);
}

static void mon_sendkey(struct mon_call *m)
{
    struct mon_release *r;
    uint64_t hold_ms = 100;
    char *name = m->count > 1 ? m->words[1] : NULL;
    int i;
    if (!name || (m->count > 2 && !mon_expression(m->emu, m->words[2], &hold_ms))) {
        buf_printf(m->out, "sendkey: needs keys like ctrl-alt-delete, and perhaps a hold time in ms\n");
        return;
    }
    r = emu_alloc(m->emu, sizeof *r);
    if (!r)
        return;
    r->emu = m->emu;
    while (name && r->count < (int)EMU_ARRAY_LEN(r->keys)) {
        char *dash = name[0] == '-' ? NULL : strchr(name, '-');
        if (dash)
            *dash = 0;
        r->keys[r->count] = front_key_number(name[0] == '-' ? "minus" : name);
        if (r->keys[r->count] < 0) {
            buf_printf(m->out, "sendkey: unknown key: '%s'\n", name);
            emu_free(m->emu, r);
            return;
        }
        r->count++;
        name = dash ? dash + 1 : NULL;
    }
    for (i = 0; i < r->count; i++)
        input_key(m->emu, r->keys[i], true);
    timer_init(&r->timer, m->emu, mon_release_keys, r);
    timer_arm(&r->timer, emu_now_ns(m->emu) + (int64_t)EMU_MIN(hold_ms, (uint64_t)60000) * NS_PER_MS);
}

/* ---- machine ---- */

static void mon_quit(struct mon_call *m)
{
    m->emu->exit_status = 0;
    emu_request(m->emu, REQ_EXIT);
}
static void mon_stop(struct mon_call *m) { machine_pause(m->emu); }
static void mon_cont(struct mon_call *m)
{
    if (machine_resume(m->emu))
        buf_printf(m->out, "the guest is off; system_reset starts it again\n");
}
static void mon_system_reset(struct mon_call *m) { emu_request(m->emu, REQ_RESET); }
static void mon_system_powerdown(struct mon_call *m) { emu_request(m->emu, REQ_POWERDOWN); }
static void mon_nmi(struct mon_call *m) { lapic_nmi(m->emu); }

static void mon_screendump(struct mon_call *m)
{
    struct err err;
    const char *path = NULL, *format = NULL;
    int i;
    for (i = 1; i < m->count; i++) {
        if (!strcmp(m->words[i], "-f") && i + 1 < m->count)
            format = m->words[++i];
        else
            path = m->words[i];
    }
    if (!path)
        buf_printf(m->out, "screendump: needs a file name\n");
    else if (screen_save(m->emu, path, format, &err))
        buf_printf(m->out, "screendump: %s\n", err.text);
}

static void mon_screentext(struct mon_call *m)
{
    if (screen_text_print(m->emu, m->out))
        buf_printf(m->out, "the screen is in a graphics mode, or there is none\n");
}

static void mon_mouse_move(struct mon_call *m)
{
    int v[3] = { 0, 0, 0 }, i;
    for (i = 1; i < m->count && i <= 3; i++)
        v[i - 1] = atoi(m->words[i]);
    input_mouse(m->emu, v[0], v[1], v[2], m->emu->mouse_buttons);
}

static void mon_mouse_button(struct mon_call *m)
{
    uint64_t state;
    if (m->count < 2 || !mon_expression(m->emu, m->words[1], &state)) {
        buf_printf(m->out, "mouse_button: needs a state: 1 left, 2 middle, 4 right\n");
        return;
    }
    m->emu->mouse_buttons = (unsigned)((state & 1) | (state & 2 ? 4 : 0) | (state & 4 ? 2 : 0));
    input_mouse(m->emu, 0, 0, 0, m->emu->mouse_buttons);
}

/* ---- memory ---- */

/* x/FMT addr, xp/FMT addr: FMT is count, format x d u o c i, size b h w g. */
static void mon_dump(struct mon_call *m, bool physical)
{
    const char *f = m->words[0] + (physical ? 2 : 1);
    uint64_t address, count = 1;
    char format = 'x';
    unsigned size = 4, column = 0;
    struct cpu *c = m->emu->cpus[0];
    if (*f == '/') {
        f++;
        if (*f >= '0' && *f <= '9')
            for (count = 0; *f >= '0' && *f <= '9'; f++)
                count = count * 10 + (uint64_t)(*f - '0');
        for (; *f; f++) {
            if (*f == 'b' || *f == 'h' || *f == 'w' || *f == 'g')
                size = *f == 'b' ? 1 : *f == 'h' ? 2 : *f == 'w' ? 4 : 8;
            else if (strchr("xduoci", *f))
                format = *f;
        }
    }
    if (m->count < 2 || !mon_expression(m->emu, m->words[1], &address)) {
        buf_printf(m->out, "%s: needs an address (a number or $register)\n", m->words[0]);
        return;
    }
    if (format == 'c')
        size = 1;
    count = EMU_MIN(count, (uint64_t)65536);
    while (count--) {
        uint8_t bytes[16];
        uint64_t v;
        if (format == 'i') {
            struct insn insn;
            char text[120];
            size_t n = sizeof bytes;
            while (n && !(physical ? (mem_read(m->emu, address, bytes, n), true) : cpu_debug_read(c, address, bytes, n)))
                n--;
            if (!n || cpu_decode(c, c->mode_key, bytes, (unsigned)n, &insn)) {
                buf_printf(m->out, "0x%08" PRIx64 ":  (bad)\n", address);
                address++;
                continue;
            }
            cpu_disassemble(&insn, address, text, sizeof text);
            buf_printf(m->out, "0x%08" PRIx64 ":  %s\n", address, text);
            address += insn.length;
            continue;
        }
        if (physical)
            mem_read(m->emu, address, bytes, size);
        else if (!cpu_debug_read(c, address, bytes, size)) {
            buf_printf(m->out, "%sCannot access memory\n", column ? "\n" : "");
            return;
        }
        v = ldn_le(bytes, size);
        if (!column)
            buf_printf(m->out, "%016" PRIx64 ":", address);
        switch (format) {
        case 'd': buf_printf(m->out, " %" PRId64, sext64(v, size * 8)); break;
        case 'u': buf_printf(m->out, " %" PRIu64, v); break;
        case 'o': buf_printf(m->out, " %#" PRIo64, v); break;
        case 'c': buf_printf(m->out, v >= 32 && v < 127 ? " '%c'" : " '\\x%02x'", (int)v); break;
        default: buf_printf(m->out, " 0x%0*" PRIx64, (int)size * 2, v); break;
        }
        address += size;
        column += size;
        if (column >= 16 || !count) {
            buf_printf(m->out, "\n");
            column = 0;
        }
    }
}
static void mon_x(struct mon_call *m) { mon_dump(m, false); }
static void mon_xp(struct mon_call *m) { mon_dump(m, true); }

static void mon_memsave(struct mon_call *m)
{
    bool physical = m->words[0][0] == 'p';
    uint64_t address, size;
    struct err err;
    uint8_t *data;
    if (m->count < 4 || !mon_expression(m->emu, m->words[1], &address) || !mon_expression(m->emu, m->words[2], &size) || size > GIB * 4) {
        buf_printf(m->out, "%s: needs address, size and file name\n", m->words[0]);
        return;
    }
    data = emu_alloc(m->emu, (size_t)size);
    if (!data)
        buf_printf(m->out, "out of memory\n");
    else if (physical ? (mem_read(m->emu, address, data, (size_t)size), false) : !cpu_debug_read(m->emu->cpus[0], address, data, (size_t)size))
        buf_printf(m->out, "%s: not all of that range is mapped\n", m->words[0]);
    else if (host_file_save(m->words[3], data, (size_t)size, &err))
        buf_printf(m->out, "%s: %s\n", m->words[0], err.text);
    emu_free(m->emu, data);
}

static void mon_print(struct mon_call *m)
{
    uint64_t v;
    if (m->count < 2 || !mon_expression(m->emu, m->words[m->count - 1], &v))
        buf_printf(m->out, "print: needs a number or $register, or sums of these\n");
    else
        buf_printf(m->out, "0x%" PRIx64 "\n", v);
}

static void mon_io(struct mon_call *m)
{
    bool in = m->words[0][0] == 'i';
    uint64_t port, value = 0;
    unsigned size = 1;
    if (m->words[0][1] == '/' && m->words[0][2])
        size = m->words[0][2] == 'h' ? 2 : m->words[0][2] == 'w' ? 4 : 1;
    if (m->count < (in ? 2 : 3) || !mon_expression(m->emu, m->words[1], &port) || port > 0xFFFF || (!in && !mon_expression(m->emu, m->words[2], &value)))
        buf_printf(m->out, "%s: needs a port%s\n", m->words[0], in ? "" : " and a value");
    else if (in)
        buf_printf(m->out, "port[0x%04x] = 0x%0*" PRIx64 "\n", (unsigned)port, (int)size * 2, port_read(m->emu, (uint16_t)port, size));
    else
        port_write(m->emu, (uint16_t)port, value, size);
}

/* ---- media ---- */

static void mon_eject(struct mon_call *m)
{
    bool force = m->count > 2 && !strcmp(m->words[1], "-f");
    const char *id = m->count > 1 ? m->words[m->count - 1] : NULL;
    struct blk *b = id ? blk_find(m->emu, id) : NULL;
    struct err err;
    if (!b)
        buf_printf(m->out, "Device '%s' not found\n", id ? id : "");
    else if (blk_eject(b, force, &err))
        buf_printf(m->out, "%s\n", err.text);
}

static void mon_change(struct mon_call *m)
{
    struct blk *b = m->count > 2 ? blk_find(m->emu, m->words[1]) : NULL;
    struct err err;
    if (m->count < 3)
        buf_printf(m->out, "change: needs a device and a file\n");
    else if (!b)
        buf_printf(m->out, "Device '%s' not found\n", m->words[1]);
    else if (blk_change(b, m->words[2], m->count > 3 ? m->words[3] : NULL, &err))
        buf_printf(m->out, "%s\n", err.text);
}

static void mon_boot_set(struct mon_call *m)
{
    if (m->count < 2 || strlen(m->words[1]) >= sizeof m->emu->config.boot_order || strspn(m->words[1], "acdn") != strlen(m->words[1]))
        buf_printf(m->out, "boot_set: needs letters of a, c, d, n\n");
    else
        snprintf(m->emu->config.boot_order, sizeof m->emu->config.boot_order, "%s", m->words[1]);
}

static void mon_log(struct mon_call *m)
{
    static const char *const names[] = { "guest_errors", "int", "cpu_reset", "in_asm", "exec", "cpu", "unimp", "net", "trace" };
    unsigned i, mask = 0;
    const char *p = m->count > 1 ? m->words[1] : "";
    if (!strcmp(p, "none")) {
        m->emu->log_mask = 0;
        return;
    }
    while (*p) {
        size_t n = strcspn(p, ",");
        for (i = 0; i < EMU_ARRAY_LEN(names); i++)
            if (strlen(names[i]) == n && !strncmp(names[i], p, n))
                break;
        if (i == EMU_ARRAY_LEN(names)) {
            buf_printf(m->out, "log: unknown item %.*s\n", (int)n, p);
            return;
        }
        mask |= 1u << i;
        p += n + (p[n] == ',');
    }
    if (mask)
        m->emu->log_mask = mask;
    else
        buf_printf(m->out, "log: none, or items like int,cpu_reset,guest_errors\n");
}
EMU_STATIC_ASSERT(LOG_GUEST_ERROR == 1 && LOG_TRACE == 1 << 8, monitor_log_order); /* ORDER of names[] above */

static void mon_gdbserver(struct mon_call *m)
{
    struct err err;
    gdb_destroy(m->emu);
    if (m->count > 1 && !strcmp(m->words[1], "none"))
        buf_printf(m->out, "Disabled gdbserver\n");
    else if (gdb_create(m->emu, m->count > 1 ? m->words[1] : "tcp::1234", &err))
        buf_printf(m->out, "%s\n", err.text);
    else
        buf_printf(m->out, "Waiting for gdb connection on device '%s'\n", m->count > 1 ? m->words[1] : "tcp::1234");
}

/* ---- info ---- */

static void mon_info_status(struct mon_call *m)
{
    static const char *const states[] = { "running", "paused", "paused (shutdown)", "paused (suspended)" };
    buf_printf(m->out, "VM status: %s\n", states[m->emu->run_state]);
}
static void mon_info_version(struct mon_call *m) { buf_printf(m->out, "emu " EMU_VERSION "\n"); }
static void mon_info_registers(struct mon_call *m)
{
    unsigned i;
    for (i = 0; i < m->emu->cpu_count; i++) {
        if (i && !(m->count > 2 && !strcmp(m->words[2], "-a")))
            break;
        buf_printf(m->out, "\nCPU#%u\n", i);
        cpu_print_registers(m->emu->cpus[i], m->out);
    }
}
static void mon_info_cpus(struct mon_call *m)
{
    unsigned i;
    for (i = 0; i < m->emu->cpu_count; i++)
        buf_printf(m->out, "%s CPU #%u: pc=0x%016" PRIx64 "%s\n", i ? " " : "*", i, m->emu->cpus[i]->rip,
                   m->emu->cpus[i]->waiting_sipi ? " (waiting for SIPI)" : m->emu->cpus[i]->halted ? " (halted)" : "");
}
static void mon_info_block(struct mon_call *m) { blk_print_info(m->emu, m->out); }
static void mon_info_chardev(struct mon_call *m)
{
    struct chr *c;
    for (c = m->emu->chars; c; c = c->next)
        buf_printf(m->out, "%s: %s%s\n", c->id ? c->id : "?", c->open ? "open" : "closed", c->in_use ? "" : ", not used");
}
static void mon_info_mtree(struct mon_call *m) { mem_print_map(m->emu, m->out); }
static void mon_info_pci(struct mon_call *m) { pci_print_info(m->emu, m->out); }
static void mon_info_pic(struct mon_call *m)
{
    pic_print_info(m->emu, m->out);
    ioapic_print_info(m->emu, m->out);
}
static void mon_info_lapic(struct mon_call *m)
{
    uint64_t n = 0;
    if (m->count > 2 && (!mon_expression(m->emu, m->words[2], &n) || n >= m->emu->cpu_count))
        buf_printf(m->out, "there is no CPU %s\n", m->words[2]);
    else
        lapic_print_info(m->emu, (unsigned)n, m->out);
}
static void mon_info_qtree(struct mon_call *m)
{
    struct device *d;
    for (d = m->emu->devices; d; d = d->next)
        buf_printf(m->out, "dev: %s, id \"%s\", bus %s\n", d->cls->name, d->id ? d->id : "", d->cls->bus);
}
static void mon_info_jit(struct mon_call *m)
{
    struct trace_stats s;
    uint64_t total;
    trace_get_stats(m->emu, &s);
    total = s.insns_tier1 + s.insns_tier2;
    buf_printf(m->out, "instructions       %" PRIu64 "\nfirst tier         %" PRIu64 " (%.2f%%)\ntraces             %" PRIu64 "\n", m->emu->insn_total, s.insns_tier1,
               total ? 100.0 * (double)s.insns_tier1 / (double)total : 0.0, s.traces_built);
    buf_printf(m->out, "instructions built %" PRIu64 "\ninvalidations      %" PRIu64 "\nslow memory paths  %" PRIu64 "\nbuilding           %" PRIu64 " ms\n",
               s.insns_built, s.invalidations, s.slow_path, s.build_ns / (uint64_t)NS_PER_MS);
}
/* Mappings of CPU 0 as runs of linear, physical, up to a count of lines. Walks the tables top down: gaps cost one entry each. */
static void mon_walk_tables(struct mon_call *m, uint64_t table, unsigned level, unsigned width, uint64_t base, unsigned *lines)
{
    unsigned i, count = width == 8 ? 512 : 1024, shift = 12 + (level - 1) * (width == 8 ? 9 : 10);
    if (level == 3 && width == 8 && !(m->emu->cpus[0]->efer & EFER_LMA))
        count = 4; /* PAE: four page-directory pointers */
    for (i = 0; i < count && *lines; i++) {
        uint64_t entry = mem_ld(m->emu, table + (uint64_t)i * width, width), va = base | (uint64_t)i << shift;
        bool large = level > 1 && level < 4 && (entry & 0x80) && !(level == 3 && count == 4);
        if (!(entry & 1))
            continue;
        if (level == 4 && i >= 256)
            va |= UINT64_C(0xFFFF) << 48;
        if (level == 1 || large) {
            buf_printf(m->out, "%016" PRIx64 ": %016" PRIx64 " %c%c%c%c%c\n", va, entry & UINT64_C(0x000FFFFFFFFFF000) & ~((UINT64_C(1) << shift) - 1),
                       entry & 0x100 ? 'G' : '-', large ? 'P' : '-', entry & 0x40 ? 'D' : '-', entry & 4 ? 'U' : '-', entry & 2 ? 'W' : '-');
            if (!--*lines)
                buf_printf(m->out, "...\n");
        } else {
            mon_walk_tables(m, entry & UINT64_C(0x000FFFFFFFFFF000), level - 1, width, va, lines);
        }
    }
}
static void mon_info_tlb(struct mon_call *m)
{
    struct cpu *c = m->emu->cpus[0];
    unsigned lines = 1000;
    if (!(c->cr0 & CR0_PG))
        buf_printf(m->out, "PG disabled\n");
    else if (c->cr4 & CR4_LA57)
        buf_printf(m->out, "info tlb: five-level tables are not supported yet\n");
    else if (c->efer & EFER_LMA)
        mon_walk_tables(m, c->cr3 & UINT64_C(0x000FFFFFFFFFF000), 4, 8, 0, &lines);
    else if (c->cr4 & CR4_PAE)
        mon_walk_tables(m, c->cr3 & UINT64_C(0xFFFFFFE0), 3, 8, 0, &lines);
    else
        mon_walk_tables(m, c->cr3 & UINT64_C(0xFFFFF000), 2, 4, 0, &lines);
}
static void mon_info_usb(struct mon_call *m) { buf_printf(m->out, "USB support not enabled\n"); }
static void mon_info_snapshots(struct mon_call *m) { buf_printf(m->out, "info snapshots: not supported yet\n"); }
static void mon_info_name(struct mon_call *m) { buf_printf(m->out, "%s\n", m->emu->config.name ? m->emu->config.name : "(none)"); }
static void mon_info_uuid(struct mon_call *m) { buf_printf(m->out, "%s\n", m->emu->config.uuid ? m->emu->config.uuid : "00000000-0000-0000-0000-000000000000"); }

static const struct mon_command mon_topics[] = {
    { "block", "", "drives", mon_info_block },
    { "chardev", "", "character devices", mon_info_chardev },
    { "cpus", "", "CPUs and where they are", mon_info_cpus },
    { "irq", "", "interrupt controllers", mon_info_pic },
    { "jit", "", "traces and their use", mon_info_jit },
    { "lapic", "[cpu]", "local APIC", mon_info_lapic },
    { "mtree", "", "memory and port map", mon_info_mtree },
    { "name", "", "name of the guest", mon_info_name },
    { "pci", "", "PCI devices", mon_info_pci },
    { "pic", "", "interrupt controllers", mon_info_pic },
    { "qtree", "", "devices", mon_info_qtree },
    { "registers", "[-a]", "CPU registers", mon_info_registers },
    { "snapshots", "", "snapshots", mon_info_snapshots },
    { "status", "", "running or paused", mon_info_status },
    { "tlb", "", "virtual to physical mappings", mon_info_tlb },
    { "usb", "", "USB devices", mon_info_usb },
    { "uuid", "", "system UUID", mon_info_uuid },
    { "version", "", "version of emu", mon_info_version },
};

static void mon_info(struct mon_call *m)
{
    size_t i;
    for (i = 0; m->count > 1 && i < EMU_ARRAY_LEN(mon_topics); i++)
        if (!strcmp(mon_topics[i].name, m->words[1])) {
            mon_topics[i].run(m);
            return;
        }
    if (m->count > 1)
        buf_printf(m->out, "unknown topic: '%s'\n", m->words[1]);
    for (i = 0; i < EMU_ARRAY_LEN(mon_topics); i++)
        buf_printf(m->out, "info %s %s -- %s\n", mon_topics[i].name, mon_topics[i].args, mon_topics[i].help);
}

static void mon_help(struct mon_call *m);

static const struct mon_command mon_commands[] = {
    { "help", "[cmd]", "show this", mon_help },
    { "?", "[cmd]", NULL, mon_help },
    { "boot_set", "letters", "boot order of the next reset", mon_boot_set },
    { "change", "device file [format]", "put another medium in", mon_change },
    { "cont", "", "run on", mon_cont },
    { "c", "", NULL, mon_cont },
    { "eject", "[-f] device", "take the medium out", mon_eject },
    { "gdbserver", "[device|none]", "wait for a debugger (default tcp::1234)", mon_gdbserver },
    { "i", "/fmt port", "read a port", mon_io },
    { "info", "[topic]", "show state", mon_info },
    { "log", "items|none", "log items, as -d", mon_log },
    { "memsave", "addr size file", "write virtual memory to a file", mon_memsave },
    { "mouse_button", "state", "1 left, 2 middle, 4 right", mon_mouse_button },
    { "mouse_move", "dx dy [dz]", "move the mouse", mon_mouse_move },
    { "nmi", "", "a non-maskable interrupt", mon_nmi },
    { "o", "/fmt port value", "write a port", mon_io },
    { "pmemsave", "addr size file", "write physical memory to a file", mon_memsave },
    { "print", "expression", "value of an expression ($rip+4)", mon_print },
    { "p", "expression", NULL, mon_print },
    { "quit", "", "end the emulator", mon_quit },
    { "q", "", NULL, mon_quit },
    { "screendump", "file [-f ppm|png]", "the screen as a picture", mon_screendump },
    { "screentext", "", "the screen as text", mon_screentext },
    { "sendkey", "keys [hold_ms]", "press keys, like ctrl-alt-delete", mon_sendkey },
    { "stop", "", "pause", mon_stop },
    { "s", "", NULL, mon_stop },
    { "system_powerdown", "", "press the power button", mon_system_powerdown },
    { "system_reset", "", "press the reset button", mon_system_reset },
    { "x", "/fmt addr", "virtual memory", mon_x },
    { "xp", "/fmt addr", "physical memory", mon_xp },
};

static void mon_help(struct mon_call *m)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
        if (mon_commands[i].help && (m->count < 2 || !strcmp(m->words[1], mon_commands[i].name)))
            buf_printf(m->out, "%s %s -- %s\n", mon_commands[i].name, mon_commands[i].args, mon_commands[i].help);
}

/* Splits at spaces in place; quotes and backslash keep them. */
static int mon_split(char *line, char *words[MONITOR_WORDS])
{
    int n = 0;
    char *from = line, *to = line;
    while (*from && n < MONITOR_WORDS) {
        bool quoted = false;
        while (*from == ' ' || *from == '\t')
            from++;
        if (!*from)
            break;
        words[n++] = to;
        for (; *from && (quoted || (*from != ' ' && *from != '\t')); from++) {
            if (*from == '"') {
                quoted = !quoted;
                continue;
            }
            if (*from == '\\' && from[1])
                from++;
            *to++ = *from;
        }
        if (*from)
            from++;
        *to++ = 0;
    }
    return n;
}

EMU_PRIV void monitor_command(struct emu *e, const char *line, struct buf *out)
{
    struct mon_call m;
    char text[MONITOR_LINE_MAX];
    size_t i, name;
    memset(&m, 0, sizeof m);
    m.emu = e;
    m.out = out;
    snprintf(text, sizeof text, "%s", line);
    m.count = mon_split(text, m.words);
    if (!m.count)
        return;
    name = strcspn(m.words[0], "/");
    for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
        if (strlen(mon_commands[i].name) == name && !strncmp(mon_commands[i].name, m.words[0], name)) {
            mon_commands[i].run(&m);
            return;
        }
    buf_printf(out, "unknown command: '%s'\n", m.words[0]);
}

/* ---- the interactive line ---- */

static void mon_flush(struct monitor *m)
{
    int n;
    if (!m->pending.size)
        return;
    n = chr_write(m->chr, m->pending.data, m->pending.size);
    if (n > 0) {
        memmove(m->pending.data, m->pending.data + n, m->pending.size - (size_t)n);
        m->pending.size -= (size_t)n;
    }
}

/* Text with line ends as terminals want them. */
static void mon_say(struct monitor *m, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            buf_add(&m->pending, "\r", 1);
        buf_add(&m->pending, text, 1);
    }
    mon_flush(m);
}

static void mon_replace_line(struct monitor *m, const char *text)
{
    while (m->length) {
        m->length--;
        mon_say(m, "\b \b");
    }
    snprintf(m->line, sizeof m->line, "%s", text);
    m->length = strlen(m->line);
    mon_say(m, m->line);
}

static void mon_remember(struct monitor *m)
{
    char *copy;
    if (!m->length || (m->history_count && !strcmp(m->history[m->history_count - 1], m->line)))
        return;
    copy = emu_strdup(m->emu, m->line);
    if (!copy)
        return;
    if (m->history_count == MONITOR_HISTORY) {
        emu_free(m->emu, m->history[0]);
        memmove(m->history, m->history + 1, (MONITOR_HISTORY - 1) * sizeof *m->history);
        m->history_count--;
    }
    m->history[m->history_count++] = copy;
}

static void mon_run_line(struct monitor *m)
{
    struct buf out;
    m->line[m->length] = 0;
    mon_say(m, "\n");
    mon_remember(m);
    m->history_at = m->history_count;
    buf_init(&out, m->emu);
    monitor_command(m->emu, m->line, &out);
    if (out.data)
        mon_say(m, (char *)out.data);
    buf_free(&out);
    m->length = 0;
    mon_say(m, "(emu) ");
}

static void mon_complete(struct monitor *m)
{
    size_t i, found = 0, last = 0;
    m->line[m->length] = 0;
    for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
        if (!strncmp(mon_commands[i].name, m->line, m->length)) {
            found++;
            last = i;
        }
    if (found == 1) {
        char text[64];
        snprintf(text, sizeof text, "%s ", mon_commands[last].name);
        mon_replace_line(m, text);
    } else if (found > 1) {
        mon_say(m, "\n");
        for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
            if (!strncmp(mon_commands[i].name, m->line, m->length)) {
                mon_say(m, mon_commands[i].name);
                mon_say(m, " ");
            }
        mon_say(m, "\n(emu) ");
        mon_say(m, m->line);
    }
}

static void mon_history(struct monitor *m, bool up)
{
    if (up ? m->history_at == 0 : m->history_at >= m->history_count)
        return;
    m->history_at += up ? -1u : 1u;
    mon_replace_line(m, m->history_at < m->history_count ? m->history[m->history_at] : "");
}

static void mon_char(struct monitor *m, uint8_t ch)
{
    if (m->escape == 1) {
        m->escape = ch == '[' || ch == 'O' ? 2 : 0;
        return;
    }
    if (m->escape == 2) {
        if ((ch >= '0' && ch <= '9') || ch == ';')
            return;
        m->escape = 0;
        if (ch == 'A' || ch == 'B')
            mon_history(m, ch == 'A');
        return;
    }
    switch (ch) {
    case 27: m->escape = 1; break;
    case '\r':
    case '\n': mon_run_line(m); break;
    case 8:
    case 127:
        if (m->length) {
            m->length--;
            mon_say(m, "\b \b");
        }
        break;
    case 3: /* Ctrl-C */
    case 21: mon_replace_line(m, ""); break; /* Ctrl-U */
    case '\t': mon_complete(m); break;
    default:
        if (ch >= 32 && m->length + 1 < sizeof m->line) {
            char echo[2];
            m->line[m->length++] = (char)ch;
            echo[0] = (char)ch;
            echo[1] = 0;
            mon_say(m, echo);
        }
    }
}

static size_t mon_can_receive(void *opaque)
{
    struct monitor *m = opaque;
    return m->pending.size > 65536 ? 0 : 256;
}

static void mon_receive(void *opaque, const uint8_t *bytes, size_t size)
{
    struct monitor *m = opaque;
    while (size--)
        mon_char(m, *bytes++);
}

static void mon_event(void *opaque, enum chr_event event)
{
    struct monitor *m = opaque;
    if (event == CHR_OPENED) {
        m->length = 0;
        mon_say(m, m->greeted ? "(emu) " : "emu " EMU_VERSION " monitor - type 'help' for more information\n(emu) ");
        m->greeted = true;
    } else if (event == CHR_CLOSED) {
        m->pending.size = 0;
        m->greeted = false;
    }
}

static void mon_writable(void *opaque) { mon_flush(opaque); }

EMU_PRIV int monitor_create(struct emu *e, struct chr *chr, struct err *err)
{
    struct monitor *m = emu_alloc(e, sizeof *m);
    if (!m)
        return err_set(err, EMU_ENOMEM, "out of memory");
    m->emu = e;
    m->chr = chr;
    buf_init(&m->pending, e);
    chr->can_receive = mon_can_receive;
    chr->receive = mon_receive;
    chr->event = mon_event;
    chr->writable = mon_writable;
    chr->opaque = m;
    chr->in_use = true;
    m->next = front_of(e)->monitors;
    front_of(e)->monitors = m;
    if (chr->open)
        mon_event(m, CHR_OPENED);
    chr_accept_input(chr);
    return 0;
}

EMU_PRIV void monitor_destroy_all(struct emu *e)
{
    while (front_of(e)->monitors) {
        struct monitor *m = front_of(e)->monitors;
        front_of(e)->monitors = m->next;
        m->chr->can_receive = NULL;
        m->chr->receive = NULL;
        m->chr->event = NULL;
        m->chr->writable = NULL;
        while (m->history_count)
            emu_free(e, m->history[--m->history_count]);
        buf_free(&m->pending);
        emu_free(e, m);
    }
}
#undef MONITOR_LINE_MAX
#undef MONITOR_WORDS
#undef MONITOR_HISTORY

/* ======================================== src/front/gdb.c ======================================== */

/* front/gdb.c - stub for GDB's remote serial protocol.
 *
 * Models     "GDB Remote Serial Protocol" (GDB manual, appendix E), target description org.gnu.gdb.i386.{core,sse,segments}.
 * Contract   -gdb, -s and the monitor's gdbserver create it on a character line. The loop calls gdb_on_break() at breakpoints, with the machine paused.
 * Theory     A packet is collected byte by byte, run, and answered. The machine is paused whenever GDB may look at it. Every CPU is a thread
 *            (number + 1). The register file is described as x86-64 in every mode, as QEMU does: GDB's `set architecture` shows 16- and
 *            32-bit code. Addresses are linear.
 *
 *            idle --'$'--> packet --'#'--> checksum (2 digits) --> run, answer, idle        (gdb_byte)
 * Invariants 1. A stop is reported exactly once for each continue or step.
 *            2. Breakpoints of a stub that goes away are taken out.
 */

#define GDB_PACKET_MAX 16384
#define GDB_BREAKPOINTS 128
#define GDB_SIGINT 2
#define GDB_SIGTRAP 5

enum gdb_state { GDB_IDLE, GDB_PACKET, GDB_ESCAPE, GDB_SUM1, GDB_SUM2 };

struct gdbstub {
    struct emu *emu;
    struct chr *chr;
    enum gdb_state state;
    char packet[GDB_PACKET_MAX + 1];
    size_t length;
    uint8_t sum, told_sum;
    bool no_ack, running; /* running: GDB waits for a stop */
    unsigned cpu;         /* selected by Hg */
    struct breakpoint points[GDB_BREAKPOINTS];
    unsigned point_count;
    struct buf out;
    char console_id[16];
};

/* ---- sending ---- */

static void gdb_flush(struct gdbstub *g)
{
    int n;
    if (!g->out.size)
        return;
    n = chr_write(g->chr, g->out.data, g->out.size);
    if (n > 0) {
        memmove(g->out.data, g->out.data + n, g->out.size - (size_t)n);
        g->out.size -= (size_t)n;
    }
}

/* $data#sum, with the bytes that need it escaped. */
static void gdb_send_bytes(struct gdbstub *g, const char *data, size_t size)
{
    uint8_t sum = 0;
    buf_add(&g->out, "$", 1);
    for (; size; size--, data++) {
        uint8_t ch = (uint8_t)*data;
        if (ch == '#' || ch == '$' || ch == '}' || ch == '*') {
            buf_add(&g->out, "}", 1);
            sum = (uint8_t)(sum + '}');
            ch ^= 0x20;
        }
        buf_add(&g->out, &ch, 1);
        sum = (uint8_t)(sum + ch);
    }
    buf_printf(&g->out, "#%02x", sum);
    gdb_flush(g);
}
static void gdb_send(struct gdbstub *g, const char *text) { gdb_send_bytes(g, text, strlen(text)); }

static void gdb_hex(struct buf *b, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size--)
        buf_printf(b, "%02x", *p++);
}

static int gdb_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static uint64_t gdb_number(const char **p)
{
    uint64_t v = 0;
    int d;
    while ((d = gdb_digit(**p)) >= 0) {
        v = v << 4 | (unsigned)d;
        ++*p;
    }
    return v;
}

/* Up to size bytes of hex; how many came. */
static size_t gdb_unhex(const char *p, uint8_t *out, size_t size)
{
    size_t n = 0;
    while (n < size && gdb_digit(p[0]) >= 0 && gdb_digit(p[1]) >= 0) {
        out[n++] = (uint8_t)(gdb_digit(p[0]) << 4 | gdb_digit(p[1]));
        p += 2;
    }
    return n;
}

/* ---- registers; ORDER gdb_register: gdb_target_parts and gdb_register() ---- */
enum { GDB_RIP = 16, GDB_EFLAGS = 17, GDB_SEGS = 18, GDB_ST = 24, GDB_FCTRL = 32, GDB_XMM = 40, GDB_MXCSR = 56, GDB_FS_BASE = 57, GDB_GS_BASE = 58,
       GDB_K_GS_BASE = 59, GDB_CR0 = 60, GDB_CR2, GDB_CR3, GDB_CR4, GDB_CR8, GDB_EFER, GDB_REGISTERS };

static const char *const gdb_target_parts[] = { /* joined: C99 promises 4095 characters a literal */
    "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\"><architecture>i386:x86-64</architecture>"
    "<feature name=\"org.gnu.gdb.i386.core\">"
    "<flags id=\"i386_eflags\" size=\"4\"><field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
    "<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/>"
    "<field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/>"
    "<field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"VIF\" start=\"19\" end=\"19\"/>"
    "<field name=\"VIP\" start=\"20\" end=\"20\"/><field name=\"ID\" start=\"21\" end=\"21\"/></flags>"
#define GDB_REG(name, bits, type) "<reg name=\"" name "\" bitsize=\"" bits "\" type=\"" type "\"/>"
    GDB_REG("rax", "64", "int64") GDB_REG("rbx", "64", "int64") GDB_REG("rcx", "64", "int64") GDB_REG("rdx", "64", "int64") GDB_REG("rsi", "64", "int64")
    GDB_REG("rdi", "64", "int64") GDB_REG("rbp", "64", "data_ptr") GDB_REG("rsp", "64", "data_ptr") GDB_REG("r8", "64", "int64") GDB_REG("r9", "64", "int64")
    GDB_REG("r10", "64", "int64") GDB_REG("r11", "64", "int64") GDB_REG("r12", "64", "int64") GDB_REG("r13", "64", "int64") GDB_REG("r14", "64", "int64")
    GDB_REG("r15", "64", "int64") GDB_REG("rip", "64", "code_ptr") GDB_REG("eflags", "32", "i386_eflags") GDB_REG("cs", "32", "int32") GDB_REG("ss", "32", "int32")
    GDB_REG("ds", "32", "int32") GDB_REG("es", "32", "int32") GDB_REG("fs", "32", "int32") GDB_REG("gs", "32", "int32") GDB_REG("st0", "80", "i387_ext")
    GDB_REG("st1", "80", "i387_ext") GDB_REG("st2", "80", "i387_ext") GDB_REG("st3", "80", "i387_ext") GDB_REG("st4", "80", "i387_ext") GDB_REG("st5", "80", "i387_ext")
    GDB_REG("st6", "80", "i387_ext") GDB_REG("st7", "80", "i387_ext") GDB_REG("fctrl", "32", "int") GDB_REG("fstat", "32", "int") GDB_REG("ftag", "32", "int")
    GDB_REG("fiseg", "32", "int") GDB_REG("fioff", "32", "int") GDB_REG("foseg", "32", "int") GDB_REG("fooff", "32", "int") GDB_REG("fop", "32", "int")
    , "</feature><feature name=\"org.gnu.gdb.i386.sse\"><vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/><vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/><union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
    "<field name=\"uint128\" type=\"uint128\"/></union>"
    GDB_REG("xmm0", "128", "vec128") GDB_REG("xmm1", "128", "vec128") GDB_REG("xmm2", "128", "vec128") GDB_REG("xmm3", "128", "vec128") GDB_REG("xmm4", "128", "vec128")
    GDB_REG("xmm5", "128", "vec128") GDB_REG("xmm6", "128", "vec128") GDB_REG("xmm7", "128", "vec128") GDB_REG("xmm8", "128", "vec128") GDB_REG("xmm9", "128", "vec128")
    GDB_REG("xmm10", "128", "vec128") GDB_REG("xmm11", "128", "vec128") GDB_REG("xmm12", "128", "vec128") GDB_REG("xmm13", "128", "vec128") GDB_REG("xmm14", "128", "vec128")
    GDB_REG("xmm15", "128", "vec128") GDB_REG("mxcsr", "32", "int")
    "</feature><feature name=\"org.gnu.gdb.i386.segments\">" GDB_REG("fs_base", "64", "int") GDB_REG("gs_base", "64", "int")
    "</feature><feature name=\"emu.system\">" GDB_REG("k_gs_base", "64", "int") GDB_REG("cr0", "64", "int") GDB_REG("cr2", "64", "int") GDB_REG("cr3", "64", "int")
    GDB_REG("cr4", "64", "int") GDB_REG("cr8", "64", "int") GDB_REG("efer", "64", "int") "</feature></target>",
};
#undef GDB_REG

static const uint8_t gdb_gpr_order[16] = { REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, 8, 9, 10, 11, 12, 13, 14, 15 };
static const uint8_t gdb_seg_order[6] = { SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_FS, SEG_GS };

/* Bytes of register n in GDB's order; its size, 0: no such register. */
static unsigned gdb_register(struct cpu *c, unsigned n, uint8_t out[16])
{
    uint32_t words[8];
    if (n < 16) {
        st64le(out, c->gpr[gdb_gpr_order[n]]);
        return 8;
    }
    if (n == GDB_RIP) {
        st64le(out, c->rip);
        return 8;
    }
    if (n == GDB_EFLAGS) {
        st32le(out, cpu_eflags(c));
        return 4;
    }
    if (n < GDB_ST) {
        st32le(out, c->seg[gdb_seg_order[n - GDB_SEGS]].selector);
        return 4;
    }
    if (n < GDB_FCTRL) {
        const struct x87_reg *r = &c->x87[(c->x87_top + n - GDB_ST) & 7];
        st64le(out, r->mant);
        st16le(out + 8, r->exp);
        return 10;
    }
    if (n < GDB_XMM) {
        words[0] = c->x87_control, words[1] = (uint32_t)(c->x87_status | c->x87_top << 11), words[2] = x87_tag_word(c), words[3] = c->x87_cs;
        words[4] = (uint32_t)c->x87_ip, words[5] = c->x87_ds, words[6] = (uint32_t)c->x87_dp, words[7] = c->x87_opcode;
        st32le(out, words[n - GDB_FCTRL]);
        return 4;
    }
    if (n < GDB_MXCSR) {
        st64le(out, c->xmm[n - GDB_XMM].q[0]);
        st64le(out + 8, c->xmm[n - GDB_XMM].q[1]);
        return 16;
    }
    switch (n) {
    case GDB_MXCSR: st32le(out, c->mxcsr); return 4;
    case GDB_FS_BASE: st64le(out, c->seg[SEG_FS].base); return 8;
    case GDB_GS_BASE: st64le(out, c->seg[SEG_GS].base); return 8;
    case GDB_K_GS_BASE: st64le(out, c->kernel_gs_base); return 8;
    case GDB_CR0: st64le(out, c->cr0); return 8;
    case GDB_CR2: st64le(out, c->cr2); return 8;
    case GDB_CR3: st64le(out, c->cr3); return 8;
    case GDB_CR4: st64le(out, c->cr4); return 8;
    case GDB_CR8: st64le(out, lapic_get_tpr(c)); return 8;
    case GDB_EFER: st64le(out, c->efer); return 8;
    default: return 0;
    }
}

/* Writes what a debugger may write; the rest keeps its value, as GDB writes all registers back at once. */
static void gdb_set_register(struct cpu *c, unsigned n, const uint8_t *in)
{
    if (n < 16) {
        c->gpr[gdb_gpr_order[n]] = ld64le(in);
    } else if (n == GDB_RIP) {
        c->rip = ld64le(in);
    } else if (n == GDB_EFLAGS) {
        cpu_set_eflags(c, ld32le(in));
    } else if (n >= GDB_SEGS && n < GDB_ST) {
        if (c->mode == MODE_REAL)
            cpu_set_segment_real(c, gdb_seg_order[n - GDB_SEGS], ld16le(in));
    } else if (n >= GDB_ST && n < GDB_FCTRL) {
        struct x87_reg *r = &c->x87[(c->x87_top + n - GDB_ST) & 7];
        r->mant = ld64le(in);
        r->exp = ld16le(in + 8);
    } else if (n >= GDB_XMM && n < GDB_MXCSR) {
        c->xmm[n - GDB_XMM].q[0] = ld64le(in);
        c->xmm[n - GDB_XMM].q[1] = ld64le(in + 8);
    } else if (n == GDB_MXCSR) {
        c->mxcsr = ld32le(in) & 0xFFFF;
    } else if (n == GDB_FS_BASE || n == GDB_GS_BASE) {
        c->seg[n == GDB_FS_BASE ? SEG_FS : SEG_GS].base = ld64le(in);
        cpu_update_mode(c);
    } else if (n == GDB_CR2) {
        c->cr2 = ld64le(in);
    }
}

/* ---- stops ---- */

static struct cpu *gdb_cpu(struct gdbstub *g) { return g->emu->cpus[g->cpu < g->emu->cpu_count ? g->cpu : 0]; }

static void gdb_report_stop(struct gdbstub *g, unsigned signal, const char *extra)
{
    char text[96];
    snprintf(text, sizeof text, "T%02xthread:%02x;%s", signal, g->cpu + 1, extra);
    g->running = false;
    gdb_send(g, text);
}

static void gdb_on_break(struct emu *e, struct cpu *c, int why)
{
    struct gdbstub *g = front_of(e)->gdbstub;
    char extra[48] = "";
    if (!g || !g->running)
        return;
    g->cpu = c->index;
    if (why == CPU_EXIT_WATCHPOINT) {
        unsigned i;
        const char *kind = "watch";
        for (i = 0; i < g->point_count; i++)
            if (g->points[i].kind && c->watch_va >= g->points[i].va && c->watch_va - g->points[i].va < g->points[i].size)
                kind = g->points[i].kind == 1 ? "watch" : g->points[i].kind == 2 ? "rwatch" : "awatch";
        snprintf(extra, sizeof extra, "%s:%" PRIx64 ";", kind, c->watch_va);
    }
    gdb_report_stop(g, GDB_SIGTRAP, extra);
}

static void gdb_on_run_state(struct emu *e, enum run_state state)
{
    struct gdbstub *g = front_of(e)->gdbstub;
    if (g && g->running && state == RUN_STATE_PAUSED && !e->on_break_pending)
        gdb_report_stop(g, GDB_SIGINT, "");
}

static void gdb_continue(struct gdbstub *g)
{
    g->running = true;
    machine_resume(g->emu);
}

static void gdb_step(struct gdbstub *g)
{
    machine_step(g->emu, gdb_cpu(g));
    gdb_report_stop(g, GDB_SIGTRAP, "");
}

/* ---- packets ---- */

static void gdb_read_registers(struct gdbstub *g)
{
    struct buf b;
    uint8_t bytes[16];
    unsigned n, size;
    buf_init(&b, g->emu);
    for (n = 0; (size = gdb_register(gdb_cpu(g), n, bytes)); n++)
        gdb_hex(&b, bytes, size);
    gdb_send(g, b.failed ? "E01" : (char *)b.data);
    buf_free(&b);
}

static void gdb_write_registers(struct gdbstub *g, const char *p)
{
    uint8_t bytes[16];
    unsigned n, size;
    for (n = 0; n < GDB_REGISTERS && *p; n++) {
        size = gdb_register(gdb_cpu(g), n, bytes);
        if (gdb_unhex(p, bytes, size) != size)
            break;
        gdb_set_register(gdb_cpu(g), n, bytes);
        p += 2 * size;
    }
    gdb_send(g, "OK");
}

static void gdb_memory(struct gdbstub *g, const char *p)
{
    bool write = p[0] == 'M';
    uint8_t bytes[GDB_PACKET_MAX / 2];
    uint64_t va, size;
    p++;
    va = gdb_number(&p);
    if (*p++ != ',') {
        gdb_send(g, "E22");
        return;
    }
    size = gdb_number(&p);
    if (size > sizeof bytes - 64)
        size = sizeof bytes - 64;
    if (write) {
        if (*p++ != ':' || gdb_unhex(p, bytes, (size_t)size) != size || !cpu_debug_write(gdb_cpu(g), va, bytes, (size_t)size))
            gdb_send(g, "E14");
        else
            gdb_send(g, "OK");
        return;
    }
    while (size && !cpu_debug_read(gdb_cpu(g), va, bytes, (size_t)size)) /* as much as is mapped */
        size = size > 4096 - (va & 4095) && (va & 4095) + size > 4096 ? 4096 - (va & 4095) : 0;
    if (!size) {
        gdb_send(g, "E14");
    } else {
        struct buf b;
        buf_init(&b, g->emu);
        gdb_hex(&b, bytes, (size_t)size);
        gdb_send(g, b.failed ? "E01" : (char *)b.data);
        buf_free(&b);
    }
}

/* Z/z type,address,kind: 0, 1 execution; 2 write; 3 read; 4 access. */
static void gdb_point(struct gdbstub *g, const char *p)
{
    bool on = p[0] == 'Z';
    struct breakpoint b;
    unsigned type = (unsigned)(p[1] - '0'), i;
    if (type > 4 || p[2] != ',') {
        gdb_send(g, "");
        return;
    }
    p += 3;
    b.va = gdb_number(&p);
    b.size = *p == ',' ? (p++, gdb_number(&p)) : 1;
    b.kind = (uint8_t)(type < 2 ? 0 : type - 1);
    if (b.size < 1 || b.size > 4096)
        b.size = 1;
    for (i = 0; i < g->point_count; i++)
        if (g->points[i].va == b.va && g->points[i].kind == b.kind && (!b.kind || g->points[i].size == b.size))
            break;
    if (on && i == g->point_count) {
        if (i == GDB_BREAKPOINTS || cpu_breakpoint_set(g->emu, &b, true)) {
            gdb_send(g, "E28");
            return;
        }
        g->points[g->point_count++] = b;
    } else if (!on && i < g->point_count) {
        cpu_breakpoint_set(g->emu, &g->points[i], false);
        g->points[i] = g->points[--g->point_count];
    }
    gdb_send(g, "OK");
}

static void gdb_xfer(struct gdbstub *g, const char *p)
{
    uint64_t offset = gdb_number(&p), size;
    struct buf xml;
    size_t i;
    if (*p++ != ',') {
        gdb_send(g, "E22");
        return;
    }
    size = gdb_number(&p);
    buf_init(&xml, g->emu);
    buf_add(&xml, "m", 1);
    for (i = 0; i < EMU_ARRAY_LEN(gdb_target_parts); i++)
        buf_add(&xml, gdb_target_parts[i], strlen(gdb_target_parts[i]));
    if (xml.failed) {
        gdb_send(g, "E12");
    } else {
        uint64_t left = xml.size - 1;
        offset = EMU_MIN(offset, left);
        size = EMU_MIN(EMU_MIN(size, left - offset), (uint64_t)GDB_PACKET_MAX / 2);
        xml.data[offset] = offset + size == left ? 'l' : 'm'; /* overwrites the byte before: it was sent already */
        gdb_send_bytes(g, (char *)xml.data + offset, (size_t)size + 1);
    }
    buf_free(&xml);
}

static void gdb_monitor(struct gdbstub *g, const char *hex)
{
    char line[512];
    struct buf out, reply;
    line[gdb_unhex(hex, (uint8_t *)line, sizeof line - 1)] = 0;
    buf_init(&out, g->emu);
    buf_init(&reply, g->emu);
    monitor_command(g->emu, line, &out);
    if (out.size)
        gdb_hex(&reply, out.data, out.size);
    gdb_send(g, reply.size && !reply.failed ? (char *)reply.data : "OK");
    buf_free(&out);
    buf_free(&reply);
}

static void gdb_query(struct gdbstub *g, const char *p)
{
    if (!strncmp(p, "qSupported", 10)) {
        char text[128];
        snprintf(text, sizeof text, "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+", GDB_PACKET_MAX);
        gdb_send(g, text);
    } else if (!strncmp(p, "qXfer:features:read:target.xml:", 31)) {
        gdb_xfer(g, p + 31);
    } else if (!strcmp(p, "qfThreadInfo")) {
        struct buf b;
        unsigned i;
        buf_init(&b, g->emu);
        for (i = 0; i < g->emu->cpu_count; i++)
            buf_printf(&b, "%c%02x", i ? ',' : 'm', i + 1);
        gdb_send(g, b.failed ? "E01" : (char *)b.data);
        buf_free(&b);
    } else if (!strcmp(p, "qsThreadInfo")) {
        gdb_send(g, "l");
    } else if (!strncmp(p, "qThreadExtraInfo,", 17)) {
        struct buf b;
        char text[32];
        const char *q = p + 17;
        uint64_t id = gdb_number(&q);
        snprintf(text, sizeof text, "CPU#%u%s", (unsigned)(id - 1), id >= 1 && id <= g->emu->cpu_count && g->emu->cpus[id - 1]->halted ? " [halted]" : "");
        buf_init(&b, g->emu);
        gdb_hex(&b, text, strlen(text));
        gdb_send(g, b.failed ? "E01" : (char *)b.data);
        buf_free(&b);
    } else if (!strcmp(p, "qC")) {
        char text[16];
        snprintf(text, sizeof text, "QC%02x", g->cpu + 1);
        gdb_send(g, text);
    } else if (!strncmp(p, "qAttached", 9)) {
        gdb_send(g, "1");
    } else if (!strncmp(p, "qRcmd,", 6)) {
        gdb_monitor(g, p + 6);
    } else {
        gdb_send(g, "");
    }
}

static void gdb_clear_points(struct gdbstub *g)
{
    while (g->point_count)
        cpu_breakpoint_set(g->emu, &g->points[--g->point_count], false);
}

static void gdb_vcont(struct gdbstub *g, const char *p)
{
    if (*p == '?') {
        gdb_send(g, "vCont;c;C;s;S");
        return;
    }
    for (; *p == ';'; p += strcspn(p, ";")) { /* the first step wins; else continue */
        p++;
        if (*p == 's' || *p == 'S') {
            const char *q = strchr(p, ':');
            if (q && q < p + strcspn(p, ";")) {
                q++;
                g->cpu = (unsigned)(gdb_number(&q) - 1) % g->emu->cpu_count;
            }
            gdb_step(g);
            return;
        }
    }
    gdb_continue(g);
}

static void gdb_run_packet(struct gdbstub *g)
{
    const char *p = g->packet;
    uint8_t bytes[16];
    unsigned n, size;
    switch (p[0]) {
    case '?': gdb_report_stop(g, GDB_SIGTRAP, ""); break;
    case 'g': gdb_read_registers(g); break;
    case 'G': gdb_write_registers(g, p + 1); break;
    case 'p':
    case 'P': {
        const char *q = p + 1;
        struct buf b;
        n = (unsigned)gdb_number(&q);
        size = gdb_register(gdb_cpu(g), n, bytes);
        if (!size) {
            gdb_send(g, "E14");
        } else if (p[0] == 'P') {
            if (*q == '=' && gdb_unhex(q + 1, bytes, size) == size) {
                gdb_set_register(gdb_cpu(g), n, bytes);
                gdb_send(g, "OK");
            } else {
                gdb_send(g, "E22");
            }
        } else {
            buf_init(&b, g->emu);
            gdb_hex(&b, bytes, size);
            gdb_send(g, b.failed ? "E01" : (char *)b.data);
            buf_free(&b);
        }
        break;
    }
    case 'm':
    case 'M': gdb_memory(g, p); break;
    case 'c':
        if (p[1]) {
            p++;
            gdb_cpu(g)->rip = gdb_number(&p);
        }
        gdb_continue(g);
        break;
    case 'C': gdb_continue(g); break;
    case 's':
        if (p[1]) {
            p++;
            gdb_cpu(g)->rip = gdb_number(&p);
        }
        gdb_step(g);
        break;
    case 'S': gdb_step(g); break;
    case 'Z':
    case 'z': gdb_point(g, p); break;
    case 'H':
        if (p[1] == 'g' && p[2] != '-' && p[2] != '0') {
            const char *q = p + 2;
            uint64_t id = gdb_number(&q);
            if (id < 1 || id > g->emu->cpu_count) {
                gdb_send(g, "E22");
                break;
            }
            g->cpu = (unsigned)id - 1;
        }
        gdb_send(g, "OK");
        break;
    case 'T': {
        const char *q = p + 1;
        uint64_t id = gdb_number(&q);
        gdb_send(g, id >= 1 && id <= g->emu->cpu_count ? "OK" : "E22");
        break;
    }
    case 'D':
        gdb_clear_points(g);
        gdb_send(g, "OK");
        g->running = false;
        machine_resume(g->emu);
        break;
    case 'k':
        g->emu->exit_status = 0;
        emu_request(g->emu, REQ_EXIT);
        break;
    case 'q': gdb_query(g, p); break;
    case 'Q':
        if (!strcmp(p, "QStartNoAckMode")) {
            gdb_send(g, "OK");
            g->no_ack = true;
        } else {
            gdb_send(g, "");
        }
        break;
    case 'v':
        if (!strncmp(p, "vCont", 5)) {
            gdb_vcont(g, p + 5);
        } else if (!strncmp(p, "vKill", 5)) {
            gdb_send(g, "OK");
            g->emu->exit_status = 0;
            emu_request(g->emu, REQ_EXIT);
        } else {
            gdb_send(g, "");
        }
        break;
    default: gdb_send(g, ""); break;
    }
}

static void gdb_byte(struct gdbstub *g, uint8_t ch)
{
    switch (g->state) {
    case GDB_IDLE:
        if (ch == '$') {
            g->state = GDB_PACKET;
            g->length = 0;
            g->sum = 0;
        } else if (ch == 3 && g->running) {
            machine_pause(g->emu); /* gdb_on_run_state() reports it */
        }
        break;
    case GDB_PACKET:
    case GDB_ESCAPE:
        if (ch == '#' && g->state == GDB_PACKET) {
            g->state = GDB_SUM1;
            break;
        }
        g->sum = (uint8_t)(g->sum + ch);
        if (ch == '}' && g->state == GDB_PACKET) {
            g->state = GDB_ESCAPE;
            break;
        }
        if (g->length < GDB_PACKET_MAX)
            g->packet[g->length++] = (char)(g->state == GDB_ESCAPE ? ch ^ 0x20 : ch);
        g->state = GDB_PACKET;
        break;
    case GDB_SUM1:
        g->told_sum = (uint8_t)(gdb_digit((char)ch) << 4);
        g->state = GDB_SUM2;
        break;
    case GDB_SUM2:
        g->told_sum |= (uint8_t)gdb_digit((char)ch);
        g->state = GDB_IDLE;
        g->packet[g->length] = 0;
        if (!g->no_ack)
            buf_add(&g->out, g->told_sum == g->sum ? "+" : "-", 1);
        if (g->told_sum == g->sum || g->no_ack)
            gdb_run_packet(g);
        gdb_flush(g);
        break;
    }
}

static size_t gdb_can_receive(void *opaque)
{
    (void)opaque;
    return 4096;
}
static void gdb_receive(void *opaque, const uint8_t *bytes, size_t size)
{
    while (size--)
        gdb_byte(opaque, *bytes++);
}
static void gdb_event(void *opaque, enum chr_event event)
{
    struct gdbstub *g = opaque;
    if (event == CHR_OPENED) {
        g->state = GDB_IDLE;
        g->no_ack = false;
        g->running = false;
        g->cpu = 0;
        machine_pause(g->emu);
    } else if (event == CHR_CLOSED) {
        gdb_clear_points(g);
        g->out.size = 0;
        g->running = false;
    }
}
static void gdb_writable(void *opaque) { gdb_flush(opaque); }

EMU_PRIV int gdb_create(struct emu *e, const char *device, struct err *err)
{
    struct gdbstub *g;
    char spec[256];
    if (!strncmp(device, "tcp:", 4) || !strncmp(device, "unix:", 5))
        snprintf(spec, sizeof spec, "%s%s", device, strstr(device, "server") ? "" : ",server=on,wait=off");
    else
        snprintf(spec, sizeof spec, "%s", device);
    g = emu_alloc(e, sizeof *g);
    if (!g)
        return err_set(err, EMU_ENOMEM, "out of memory");
    g->emu = e;
    buf_init(&g->out, e);
    snprintf(g->console_id, sizeof g->console_id, "gdb%u", e->gdb_count++);
    g->chr = chr_open(e, g->console_id, spec, err);
    if (!g->chr) {
        emu_free(e, g);
        return err_prefix(err, EMU_EINVAL, "-gdb %s", device);
    }
    front_of(e)->gdbstub = g;
    e->on_break = gdb_on_break;
    e->on_run_state = gdb_on_run_state;
    g->chr->can_receive = gdb_can_receive;
    g->chr->receive = gdb_receive;
    g->chr->event = gdb_event;
    g->chr->writable = gdb_writable;
    g->chr->opaque = g;
    g->chr->in_use = true;
    if (g->chr->open && !strcmp(device, "stdio"))
        gdb_event(g, CHR_OPENED);
    chr_accept_input(g->chr);
    return 0;
}

EMU_PRIV void gdb_destroy(struct emu *e)
{
    struct gdbstub *g = front_of(e)->gdbstub;
    if (!g)
        return;
    gdb_clear_points(g);
    g->chr->can_receive = NULL;
    g->chr->receive = NULL;
    g->chr->event = NULL;
    g->chr->writable = NULL;
    e->on_break = NULL;
    e->on_run_state = NULL;
    front_of(e)->gdbstub = NULL;
    buf_free(&g->out);
    emu_free(e, g);
}
#undef GDB_PACKET_MAX
#undef GDB_BREAKPOINTS
#undef GDB_SIGINT
#undef GDB_SIGTRAP

/* ======================================== src/front/curses.c ======================================== */

/* front/curses.c - the VGA text screen in the terminal, and the line that points out a silent serial port.
 *
 * Models     ECMA-48 (ANSI) sequences that every terminal emulator knows: cursor position, SGR colours, clear.
 * Contract   -display curses creates it; it owns the terminal then. silence_create() belongs to a program whose terminal shows the serial port.
 * Theory     A timer in host time would wake an idle guest for nothing, so a poll hook looks, at most every CURSES_REFRESH_NS, whether the display
 *            changed, and sends the cells that differ from what the terminal shows. Keys come as bytes; each becomes the key
 *            presses that make that character on a US keyboard, paced so that the guest's keyboard queue keeps up.
 * Invariants 1. shown[] is what the terminal shows, or CURSES_UNKNOWN.
 *            2. The terminal is as it was after every exit (host_terminal_raw does the modes, curses_destroy the screen).
 * Missing    Graphics modes: the screen says so and names screendump.
 */

#define CURSES_REFRESH_NS (30 * NS_PER_MS)
#define CURSES_MAX_COLUMNS 200
#define CURSES_MAX_ROWS 100
#define CURSES_UNKNOWN 0xFFFFFFFFu
#define CURSES_KEYS 256
#define CURSES_KEY_NS (12 * NS_PER_MS)

struct curses {
    struct emu *emu;
    struct poll_hook hook;
    struct watch input;
    struct timer key_timer, wake_timer;
    struct screen_text text;
    uint32_t shown[CURSES_MAX_COLUMNS * CURSES_MAX_ROWS];
    int columns, rows;
    bool graphics_said;
    int64_t next_ns;
    uint64_t seen_change;
    bool drawn;
    struct buf out;
    /* queue of key events: key number, 0x100 = release */
    uint16_t keys[CURSES_KEYS];
    unsigned key_head, key_count;
    uint8_t sequence[8];
    unsigned sequence_length;
    bool escaped; /* Ctrl-A was pressed */
};

/* Unicode of the CP437 characters outside ASCII that text screens draw with; 0: '?'. */
static const uint16_t curses_cp437_high[128] = {
    0x00C7, 0x00FC, 0x00E9, 0x00E2, 0x00E4, 0x00E0, 0x00E5, 0x00E7, 0x00EA, 0x00EB, 0x00E8, 0x00EF, 0x00EE, 0x00EC, 0x00C4, 0x00C5,
    0x00C9, 0x00E6, 0x00C6, 0x00F4, 0x00F6, 0x00F2, 0x00FB, 0x00F9, 0x00FF, 0x00D6, 0x00DC, 0x00A2, 0x00A3, 0x00A5, 0x20A7, 0x0192,
    0x00E1, 0x00ED, 0x00F3, 0x00FA, 0x00F1, 0x00D1, 0x00AA, 0x00BA, 0x00BF, 0x2310, 0x00AC, 0x00BD, 0x00BC, 0x00A1, 0x00AB, 0x00BB,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255D, 0x255C, 0x255B, 0x2510,
    0x2514, 0x2534, 0x252C, 0x251C, 0x2500, 0x253C, 0x255E, 0x255F, 0x255A, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256C, 0x2567,
    0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256B, 0x256A, 0x2518, 0x250C, 0x2588, 0x2584, 0x258C, 0x2590, 0x2580,
    0x03B1, 0x00DF, 0x0393, 0x03C0, 0x03A3, 0x03C3, 0x00B5, 0x03C4, 0x03A6, 0x0398, 0x03A9, 0x03B4, 0x221E, 0x03C6, 0x03B5, 0x2229,
    0x2261, 0x00B1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00F7, 0x2248, 0x00B0, 0x2219, 0x00B7, 0x221A, 0x207F, 0x00B2, 0x25A0, 0x00A0,
};
static const uint16_t curses_cp437_low[32] = {
    0x0020, 0x263A, 0x263B, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25D8, 0x25CB, 0x25D9, 0x2642, 0x2640, 0x266A, 0x266B, 0x263C,
    0x25BA, 0x25C4, 0x2195, 0x203C, 0x00B6, 0x00A7, 0x25AC, 0x21A8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221F, 0x2194, 0x25B2, 0x25BC,
};

static void curses_put_char(struct buf *b, unsigned ch)
{
    unsigned u = ch < 32 ? curses_cp437_low[ch] : ch < 127 ? ch : ch == 127 ? 0x2302 : curses_cp437_high[ch - 128];
    uint8_t bytes[3];
    if (u < 0x80) {
        bytes[0] = (uint8_t)u;
        buf_add(b, bytes, 1);
    } else if (u < 0x800) {
        bytes[0] = (uint8_t)(0xC0 | u >> 6);
        bytes[1] = (uint8_t)(0x80 | (u & 63));
        buf_add(b, bytes, 2);
    } else {
        bytes[0] = (uint8_t)(0xE0 | u >> 12);
        bytes[1] = (uint8_t)(0x80 | ((u >> 6) & 63));
        bytes[2] = (uint8_t)(0x80 | (u & 63));
        buf_add(b, bytes, 3);
    }
}

static void curses_put_attribute(struct buf *b, unsigned attribute)
{
    static const uint8_t ansi[8] = { 0, 4, 2, 6, 1, 5, 3, 7 }; /* VGA's blue-green-red to ANSI's red-green-blue */
    buf_printf(b, "\033[0;%u;%um", (attribute & 8 ? 90u : 30u) + ansi[attribute & 7], 40u + ansi[(attribute >> 4) & 7]);
}

static void curses_flush(struct curses *s)
{
    while (s->out.size) {
        int n = host_fd_write(host_stdout(), s->out.data, s->out.size);
        if (n <= 0)
            break;
        memmove(s->out.data, s->out.data + n, s->out.size - (size_t)n);
        s->out.size -= (size_t)n;
    }
}

static void curses_draw(struct curses *s)
{
    int row, column, x = -1, y = -1, columns, rows;
    unsigned attribute = 0x100;
    struct screen_text *t = &s->text;
    if (!s->emu->display->text(s->emu->display->opaque, t)) {
        if (!s->graphics_said) {
            struct screen picture = { 0 };
            s->emu->display->update(s->emu->display->opaque, &picture);
            buf_printf(&s->out, "\033[0m\033[2J\033[HThe guest is in a graphics mode (%dx%d). Ctrl-A c, then `screendump FILE.png`, shows it.", picture.width, picture.height);
            s->graphics_said = true;
            memset(s->shown, 0xFF, sizeof s->shown);
        }
        return;
    }
    if (s->graphics_said || s->columns != t->columns || s->rows != t->rows) {
        s->graphics_said = false;
        s->columns = t->columns;
        s->rows = t->rows;
        memset(s->shown, 0xFF, sizeof s->shown);
        buf_printf(&s->out, "\033[0m\033[2J");
    }
    host_terminal_size(&columns, &rows);
    for (row = 0; row < t->rows && row < CURSES_MAX_ROWS && row < rows; row++)
        for (column = 0; column < t->columns && column < CURSES_MAX_COLUMNS && column < columns; column++) {
            uint32_t cell = t->cells[row * t->columns + column], *was = &s->shown[row * CURSES_MAX_COLUMNS + column];
            if (cell == *was)
                continue;
            *was = cell;
            if (x != column || y != row)
                buf_printf(&s->out, "\033[%d;%dH", row + 1, column + 1);
            if (attribute != cell >> 8) {
                attribute = cell >> 8;
                curses_put_attribute(&s->out, attribute);
            }
            curses_put_char(&s->out, cell & 0xFF);
            x = column + 1;
            y = row;
        }
    if (t->cursor_on && t->cursor_x < t->columns && t->cursor_y < t->rows)
        buf_printf(&s->out, "\033[%d;%dH\033[?25h", t->cursor_y + 1, t->cursor_x + 1);
    else
        buf_printf(&s->out, "\033[?25l");
}

static void curses_look(void *opaque)
{
    struct curses *s = opaque;
    int64_t now = host_clock_ns();
    uint64_t change;
    if (now < s->next_ns || !s->emu->display)
        return;
    s->next_ns = now + CURSES_REFRESH_NS;
    change = s->emu->display->change_count(s->emu->display->opaque);
    if (change == s->seen_change && s->drawn)
        return;
    s->seen_change = change;
    s->drawn = true;
    curses_draw(s);
    curses_flush(s);
}

/* A change while all CPUs sleep is drawn by this; armed only while something may have changed lately. */
static void curses_wake(void *opaque)
{
    struct curses *s = opaque;
    curses_look(s);
    timer_arm(&s->wake_timer, emu_now_ns(s->emu) + 250 * NS_PER_MS);
}

/* ---- keys ---- */

static void curses_next_key(void *opaque)
{
    struct curses *s = opaque;
    uint16_t k;
    if (!s->key_count)
        return;
    k = s->keys[s->key_head];
    s->key_head = (s->key_head + 1) % CURSES_KEYS;
    s->key_count--;
    input_key(s->emu, k & 0xFF, !(k & 0x100));
    if (s->key_count)
        timer_arm(&s->key_timer, emu_now_ns(s->emu) + CURSES_KEY_NS);
}

static void curses_queue(struct curses *s, int key, bool down)
{
    if (key < 0 || s->key_count == CURSES_KEYS)
        return;
    s->keys[(s->key_head + s->key_count++) % CURSES_KEYS] = (uint16_t)(key | (down ? 0 : 0x100));
    if (!timer_armed(&s->key_timer))
        timer_arm(&s->key_timer, emu_now_ns(s->emu));
}

static void curses_press(struct curses *s, const char *modifier, const char *key)
{
    if (s->key_count + 4 > CURSES_KEYS)
        return;
    if (modifier)
        curses_queue(s, front_key_number(modifier), true);
    curses_queue(s, front_key_number(key), true);
    curses_queue(s, front_key_number(key), false);
    if (modifier)
        curses_queue(s, front_key_number(modifier), false);
}

/* The key of a US keyboard that types ch; *shifted tells how. */
static const char *curses_key_of(uint8_t ch, bool *shifted, char single[2])
{
    static const struct {
        char plain, shifted;
        const char *name;
    } keys[] = {
        { '1', '!', "1" }, { '2', '@', "2" }, { '3', '#', "3" }, { '4', '$', "4" }, { '5', '%', "5" }, { '6', '^', "6" }, { '7', '&', "7" }, { '8', '*', "8" },
        { '9', '(', "9" }, { '0', ')', "0" }, { '-', '_', "minus" }, { '=', '+', "equal" }, { '[', '{', "bracket_left" }, { ']', '}', "bracket_right" },
        { ';', ':', "semicolon" }, { '\'', '"', "apostrophe" }, { '`', '~', "grave_accent" }, { '\\', '|', "backslash" }, { ',', '<', "comma" },
        { '.', '>', "dot" }, { '/', '?', "slash" }, { ' ', ' ', "spc" },
    };
    size_t i;
    *shifted = ch >= 'A' && ch <= 'Z';
    if (*shifted || (ch >= 'a' && ch <= 'z')) {
        single[0] = (char)(ch | 0x20);
        single[1] = 0;
        return single;
    }
    for (i = 0; i < EMU_ARRAY_LEN(keys); i++)
        if (ch == (uint8_t)keys[i].plain || ch == (uint8_t)keys[i].shifted) {
            *shifted = ch != (uint8_t)keys[i].plain;
            return keys[i].name;
        }
    return NULL;
}

static void curses_type(struct curses *s, uint8_t ch)
{
    char single[2];
    bool shifted;
    const char *key;
    if (ch == '\r' || ch == '\n') {
        curses_press(s, NULL, "ret");
    } else if (ch == 8 || ch == 127) {
        curses_press(s, NULL, "backspace");
    } else if (ch == '\t') {
        curses_press(s, NULL, "tab");
    } else if (ch == 27) {
        curses_press(s, NULL, "esc");
    } else if (ch < 27 && ch) {
        single[0] = (char)('a' + ch - 1);
        single[1] = 0;
        curses_press(s, "ctrl", single);
    } else if ((key = curses_key_of(ch, &shifted, single))) {
        curses_press(s, shifted ? "shift" : NULL, key);
    }
}

/* ESC [ ... of cursor and function keys. true: the sequence is over. */
static bool curses_sequence(struct curses *s, uint8_t ch)
{
    static const struct {
        const char *sequence, *key;
    } keys[] = {
        { "[A", "up" }, { "[B", "down" }, { "[C", "right" }, { "[D", "left" }, { "[H", "home" }, { "[F", "end" }, { "OH", "home" }, { "OF", "end" },
        { "OA", "up" }, { "OB", "down" }, { "OC", "right" }, { "OD", "left" }, { "[1~", "home" }, { "[2~", "insert" }, { "[3~", "delete" }, { "[4~", "end" },
        { "[5~", "pgup" }, { "[6~", "pgdn" }, { "OP", "f1" }, { "OQ", "f2" }, { "OR", "f3" }, { "OS", "f4" }, { "[11~", "f1" }, { "[12~", "f2" }, { "[13~", "f3" },
        { "[14~", "f4" }, { "[15~", "f5" }, { "[17~", "f6" }, { "[18~", "f7" }, { "[19~", "f8" }, { "[20~", "f9" }, { "[21~", "f10" }, { "[23~", "f11" }, { "[24~", "f12" },
    };
    size_t i;
    s->sequence[s->sequence_length++] = ch;
    s->sequence[s->sequence_length] = 0;
    for (i = 0; i < EMU_ARRAY_LEN(keys); i++)
        if (!strcmp(keys[i].sequence, (char *)s->sequence + 1)) {
            curses_press(s, NULL, keys[i].key);
            return true;
        }
    return s->sequence_length >= 6 || (s->sequence_length > 2 && ((ch >= 'A' && ch <= 'Z') || ch == '~'));
}

static void curses_command(struct curses *s, uint8_t ch)
{
    int echr = front_of(s->emu)->echr;
    if (ch == 'x') {
        emu_exit_with(s->emu, 0);
    } else if (ch == echr) {
        curses_type(s, ch);
    } else if (ch == 'l') {
        memset(s->shown, 0xFF, sizeof s->shown);
        s->drawn = false;
    } else if (ch == 'd') {
        curses_queue(s, front_key_number("ctrl"), true);
        curses_queue(s, front_key_number("alt"), true);
        curses_press(s, NULL, "delete");
        curses_queue(s, front_key_number("alt"), false);
        curses_queue(s, front_key_number("ctrl"), false);
    }
}

static void curses_input(void *opaque, unsigned events)
{
    struct curses *s = opaque;
    uint8_t bytes[64];
    int n, i;
    (void)events;
    n = host_fd_read(host_stdin(), bytes, sizeof bytes);
    if (n <= 0) {
        if (n != EMU_EAGAIN)
            watch_want(&s->input, 0); /* the terminal is gone; the guest runs on */
        return;
    }
    for (i = 0; i < n; i++) {
        if (s->sequence_length) {
            if (curses_sequence(s, bytes[i]))
                s->sequence_length = 0;
        } else if (s->escaped) {
            s->escaped = false;
            curses_command(s, bytes[i]);
        } else if (bytes[i] == front_of(s->emu)->echr) {
            s->escaped = true;
        } else if (bytes[i] == 27 && i + 1 < n) {
            s->sequence[0] = 27;
            s->sequence_length = 1;
        } else {
            curses_type(s, bytes[i]);
        }
    }
}

EMU_PRIV int curses_create(struct emu *e, struct err *err)
{
    struct curses *s;
    if (!host_is_terminal(host_stdin()) || !host_is_terminal(host_stdout()))
        return err_set(err, EMU_EINVAL, "-display curses: needs a terminal on standard input and output");
    if (!e->display)
        return err_set(err, EMU_EINVAL, "-display curses: there is no graphics card (-vga none)");
    s = emu_alloc(e, sizeof *s);
    if (!s)
        return err_set(err, EMU_ENOMEM, "out of memory");
    s->emu = e;
    buf_init(&s->out, e);
    memset(s->shown, 0xFF, sizeof s->shown);
    timer_init(&s->key_timer, e, curses_next_key, s);
    timer_init(&s->wake_timer, e, curses_wake, s);
    host_terminal_raw(true, false);
    host_fd_nonblocking(host_stdin(), true);
    watch_add(e, &s->input, host_stdin(), HOST_READ, curses_input, s);
    s->hook.fn = curses_look;
    s->hook.opaque = s;
    poll_hook_add(e, &s->hook);
    timer_arm(&s->wake_timer, emu_now_ns(e));
    buf_printf(&s->out, "\033[?1049h\033[2J");
    curses_flush(s);
    front_of(e)->curses = s;
    return 0;
}

EMU_PRIV void curses_destroy(struct emu *e)
{
    struct curses *s = front_of(e)->curses;
    if (!s)
        return;
    timer_cancel(&s->key_timer);
    timer_cancel(&s->wake_timer);
    poll_hook_remove(e, &s->hook);
    watch_remove(e, &s->input);
    s->out.size = 0;
    buf_printf(&s->out, "\033[0m\033[?25h\033[?1049l");
    curses_flush(s);
    host_terminal_raw(false, true);
    buf_free(&s->out);
    emu_free(e, s);
    front_of(e)->curses = NULL;
}

/* ---- a guest that speaks to the screen only ---- */

#define SILENCE_NS (12 * NS_PER_SEC)

struct silence {
    struct emu *emu;
    struct timer timer;
    uint64_t change, bytes;
};

static void silence_look(void *opaque)
{
    struct silence *s = opaque;
    struct emu *e = s->emu;
    if (e->display && e->serial_bytes == s->bytes && e->display->change_count(e->display->opaque) != s->change)
        emu_log(e, LOG_NOTICE, "the guest writes to its screen, not to the serial port shown here: -display curses shows it, or Ctrl-A c and `screentext`");
}

EMU_PRIV int silence_create(struct emu *e)
{
    struct front *f = front_of(e);
    struct silence *s;
    if (!e->display || f->display == DISPLAY_CURSES || !e->config.serial[0] || !strstr(e->config.serial[0], "stdio"))
        return 0;
    s = emu_alloc(e, sizeof *s);
    if (!s)
        return EMU_ENOMEM;
    s->emu = e;
    s->change = e->display->change_count(e->display->opaque);
    timer_init(&s->timer, e, silence_look, s);
    timer_arm(&s->timer, emu_now_ns(e) + SILENCE_NS);
    f->silence = s;
    return 0;
}

EMU_PRIV void silence_destroy(struct emu *e)
{
    struct silence *s = front_of(e)->silence;
    if (!s)
        return;
    timer_cancel(&s->timer);
    emu_free(e, s);
    front_of(e)->silence = NULL;
}
#undef SILENCE_NS
#undef CURSES_REFRESH_NS
#undef CURSES_MAX_COLUMNS
#undef CURSES_MAX_ROWS
#undef CURSES_UNKNOWN
#undef CURSES_KEYS
#undef CURSES_KEY_NS

/* ======================================== src/front/png.c ======================================== */

/* front/png.c - the guest's screen as a picture file or as text.
 *
 * Models     PNG (ISO/IEC 15948), colour type 2, with deflate's stored blocks (RFC 1951 §3.2.4): no compression, any reader takes it. PPM "P6".
 * Contract   monitor.c and the API ask for the picture as it is now; nothing is cached.
 */

#define PNG_STORED_MAX 65535u /* bytes in one stored block */

static uint32_t png_crc(const uint8_t *p, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    unsigned k;
    while (size--) {
        crc ^= *p++;
        for (k = 0; k < 8; k++)
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static uint32_t png_adler(const uint8_t *p, size_t size)
{
    uint32_t a = 1, b = 0;
    while (size--) {
        a = (a + *p++) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void png_add_be32(struct buf *b, uint32_t v)
{
    uint8_t bytes[4];
    st32be(bytes, v);
    buf_add(b, bytes, 4);
}

static void png_chunk(struct buf *out, const char *type, const uint8_t *data, size_t size)
{
    size_t start;
    png_add_be32(out, (uint32_t)size);
    start = out->size;
    buf_add(out, type, 4);
    if (size)
        buf_add(out, data, size);
    if (!out->failed)
        png_add_be32(out, png_crc(out->data + start, size + 4));
}

/* Rows of RGB triples, each after `prefix` zero bytes (PNG's filter type 0). */
static void png_rows(struct buf *b, const struct screen *s, unsigned prefix)
{
    int x, y;
    for (y = 0; y < s->height; y++) {
        const uint32_t *row = s->pixels + (size_t)y * (size_t)s->stride_pixels;
        if (prefix)
            buf_add(b, "", 1);
        for (x = 0; x < s->width; x++) {
            uint8_t rgb[3];
            rgb[0] = (uint8_t)(row[x] >> 16);
            rgb[1] = (uint8_t)(row[x] >> 8);
            rgb[2] = (uint8_t)row[x];
            buf_add(b, rgb, 3);
        }
    }
}

static void png_encode(struct buf *out, const struct screen *s)
{
    static const uint8_t signature[8] = { 0x89, 'P', 'N', 'G', 13, 10, 26, 10 };
    uint8_t header[13] = { 0 };
    struct buf raw, zlib;
    size_t at = 0;
    buf_init(&raw, out->emu);
    buf_init(&zlib, out->emu);
    png_rows(&raw, s, 1);
    buf_add(&zlib, "\x78\x01", 2);
    while (!raw.failed && (at < raw.size || !at)) {
        size_t n = EMU_MIN(raw.size - at, PNG_STORED_MAX);
        uint8_t block[5];
        block[0] = at + n == raw.size;
        st16le(block + 1, (uint16_t)n);
        st16le(block + 3, (uint16_t)~n);
        buf_add(&zlib, block, 5);
        buf_add(&zlib, raw.data + at, n);
        at += n;
        if (!n)
            break;
    }
    png_add_be32(&zlib, raw.failed ? 1 : png_adler(raw.data, raw.size));
    st32be(header, (uint32_t)s->width);
    st32be(header + 4, (uint32_t)s->height);
    header[8] = 8; /* bits a sample */
    header[9] = 2; /* RGB */
    buf_add(out, signature, 8);
    png_chunk(out, "IHDR", header, sizeof header);
    png_chunk(out, "IDAT", zlib.data, zlib.size);
    png_chunk(out, "IEND", NULL, 0);
    out->failed |= raw.failed || zlib.failed;
    buf_free(&raw);
    buf_free(&zlib);
}

EMU_PRIV int screen_save(struct emu *e, const char *path, const char *format, struct err *err)
{
    struct screen s = { 0 };
    struct buf out;
    size_t n = strlen(path);
    bool png = format ? !strcmp(format, "png") : n > 4 && !strcmp(path + n - 4, ".png");
    int r = 0;
    if (!e->display)
        return err_set(err, EMU_ENOENT, "there is no display device to dump");
    if (format && strcmp(format, "png") && strcmp(format, "ppm"))
        return err_set(err, EMU_EINVAL, "%s: not a picture format; use ppm or png", format);
    e->display->update(e->display->opaque, &s);
    buf_init(&out, e);
    if (png) {
        png_encode(&out, &s);
    } else {
        buf_printf(&out, "P6\n%d %d\n255\n", s.width, s.height);
        png_rows(&out, &s, 0);
    }
    if (out.failed)
        r = err_set(err, EMU_ENOMEM, "out of memory");
    else
        r = host_file_save(path, out.data, out.size, err);
    buf_free(&out);
    return r;
}

EMU_PRIV int screen_text_print(struct emu *e, struct buf *out)
{
    struct screen_text *t = emu_alloc(e, sizeof *t);
    int row, column;
    if (!t)
        return EMU_ENOMEM;
    if (!e->display || !e->display->text(e->display->opaque, t)) {
        emu_free(e, t);
        return EMU_ENOENT;
    }
    for (row = 0; row < t->rows; row++) {
        int end = t->columns;
        while (end && ((t->cells[row * t->columns + end - 1] & 0xFF) == ' ' || !(t->cells[row * t->columns + end - 1] & 0xFF)))
            end--;
        for (column = 0; column < end; column++) {
            unsigned ch = t->cells[row * t->columns + column] & 0xFF;
            buf_printf(out, "%c", ch >= 0x20 && ch < 0x7F ? (int)ch : ch ? '.' : ' ');
        }
        buf_printf(out, "\n");
    }
    emu_free(e, t);
    return 0;
}
#undef PNG_STORED_MAX

/* ======================================== src/front/api.c ======================================== */

/* front/api.c - the public interface of emu.h: builds, runs and takes apart a machine.
 *
 * Contract   The only definitions of public symbols besides emu_strerror(). main.c uses the same door as every embedding program.
 * Theory     emu_new() gives an empty struct emu; emu_configure() parses the command line, opens backends, builds board, devices
 *            and firmware in the order of front_build[], and resets. emu_destroy() goes the same way back and copes with a
 *            machine that was built half.
 * Invariants 1. After a failed emu_configure() only emu_destroy() makes sense, and it frees everything.
 *            2. No call here blocks, but emu_run() with may_block.
 */

/* ---- life ---- */

static void api_log(void *opaque, unsigned mask, const char *text)
{
    struct front *f = opaque;
    if (f->hook_log)
        f->hook_log(f->hook_opaque, text);
    else if (f->log_file && !(mask & LOG_NOTICE))
        fprintf(f->log_file, "%s\n", text);
    else
        fprintf(stderr, mask & LOG_NOTICE ? "emu: %s\r\n" : "%s\r\n", text);
}

static void *api_allocate(void *opaque, void *p, size_t size)
{
    struct front *f = opaque;
    return f->hook_allocate(f->hook_opaque, p, size);
}

struct emu *emu_new(const struct emu_hooks *hooks)
{
    struct emu *e;
    struct front *f;
    if (hooks && hooks->allocate) {
        e = hooks->allocate(hooks->opaque, NULL, sizeof *e);
        f = e ? hooks->allocate(hooks->opaque, NULL, sizeof *f) : NULL;
        if (e && !f)
            hooks->allocate(hooks->opaque, e, 0);
    } else {
        e = malloc(sizeof *e);
        f = e ? malloc(sizeof *f) : NULL;
        if (e && !f)
            free(e);
    }
    if (!e || !f)
        return NULL;
    memset(e, 0, sizeof *e);
    memset(f, 0, sizeof *f);
    e->front = f;
    f->emu = e;
    e->wake_read = e->wake_write = HOST_FD_NONE;
    e->hook_opaque = f;
    e->log_fn = api_log;
    if (hooks) {
        f->hook_log = hooks->log;
        f->hook_allocate = hooks->allocate;
        f->hook_opaque = hooks->opaque;
        if (hooks->allocate)
            e->alloc_fn = api_allocate;
    }
    return e;
}

EMU_PRIV struct provided *front_provided(struct emu *e, int kind, const char *name)
{
    struct provided *p;
    for (p = front_of(e)->provided; p; p = p->next)
        if ((int)p->kind == kind && !strcmp(p->name, name))
            return p;
    return NULL;
}

static struct provided *api_provide(struct emu *e, int kind, const char *name, void *opaque, int *error)
{
    struct provided *p;
    *error = EMU_EINVAL;
    if (!e || !name || !*name || front_of(e)->configured)
        return NULL;
    *error = EMU_EEXIST;
    if (front_provided(e, kind, name))
        return NULL;
    *error = EMU_ENOMEM;
    p = emu_alloc(e, sizeof *p);
    if (!p)
        return NULL;
    p->name = emu_strdup(e, name);
    if (!p->name) {
        emu_free(e, p);
        return NULL;
    }
    if (kind == PROVIDED_DISK)
        p->kind = PROVIDED_DISK;
    else
        p->kind = kind == PROVIDED_SERIAL ? PROVIDED_SERIAL : PROVIDED_NET;
    p->opaque = opaque;
    p->next = front_of(e)->provided;
    front_of(e)->provided = p;
    *error = 0;
    return p;
}

int emu_provide_disk(struct emu *e, const char *name, const struct emu_disk_ops *ops, void *opaque)
{
    int error;
    struct provided *p;
    if (!ops || !ops->read || (!ops->read_only && !ops->write) || ops->bytes % 512)
        return EMU_EINVAL;
    p = api_provide(e, PROVIDED_DISK, name, opaque, &error);
    if (p)
        p->disk = *ops;
    return error;
}

int emu_provide_serial(struct emu *e, const char *name, void (*output)(void *, const void *, size_t), void *opaque)
{
    int error;
    struct provided *p = output ? api_provide(e, PROVIDED_SERIAL, name, opaque, &error) : NULL;
    if (p)
        p->output = output;
    return output ? error : EMU_EINVAL;
}

int emu_provide_net(struct emu *e, const char *name, void (*frame)(void *, const void *, size_t), void *opaque)
{
    int error;
    struct provided *p = frame ? api_provide(e, PROVIDED_NET, name, opaque, &error) : NULL;
    if (p)
        p->output = frame;
    return frame ? error : EMU_EINVAL;
}

static int api_open_log(struct emu *e, struct err *err)
{
    struct front *f = front_of(e);
    if (!f->log_path)
        return 0;
    f->log_file = fopen(f->log_path, "w");
    if (!f->log_file)
        return err_set(err, EMU_EIO, "-D %s: cannot write there", f->log_path);
    setvbuf(f->log_file, NULL, _IOLBF, 0);
    return 0;
}

/* -chardev lines first, since the others name them. */
static int api_create_chars(struct emu *e, struct err *err)
{
    struct config_line *line;
    for (line = front_of(e)->chardevs; line; line = line->next) {
        const char *id = options_get(&line->opts, "id");
        if (!id)
            return err_set(err, EMU_EINVAL, "%s: needs id=", line->opts.origin);
        if (!chr_create(e, id, &line->opts, err))
            return EMU_EINVAL;
    }
    return 0;
}

static int api_create_monitors(struct emu *e, struct err *err)
{
    struct front *f = front_of(e);
    struct config_line *line;
    unsigned i;
    int r;
    for (i = 0; i < f->monitor_count; i++) {
        char id[24];
        struct chr *c;
        snprintf(id, sizeof id, "compat_monitor%u", i);
        c = chr_open(e, id, f->monitor[i], err);
        if (!c)
            return err_prefix(err, EMU_EINVAL, "-monitor %s", f->monitor[i]);
        if ((r = monitor_create(e, c, err)))
            return r;
    }
    for (line = f->mons; line; line = line->next) {
        const char *id = options_get(&line->opts, "chardev"), *mode = options_get(&line->opts, "mode");
        struct chr *c = id ? chr_find(e, id) : NULL;
        options_get(&line->opts, "id"), options_get(&line->opts, "pretty");
        if (mode && strcmp(mode, "readline"))
            return err_set(err, EMU_ENOTSUP, "%s: mode=%s is not supported yet", line->opts.origin, mode);
        if (!c)
            return err_set(err, EMU_EINVAL, "%s: there is no -chardev with that id", line->opts.origin);
        if ((r = options_check_used(&line->opts, err)) || (r = monitor_create(e, c, err)))
            return r;
    }
    return 0;
}

EMU_PRIV int front_configure(struct emu *e, int argc, const char *const *argv, struct err *err)
{
    struct front *f = front_of(e);
    int r = front_parse(e, argc, argv, err);
    if (r)
        return r;
    if ((r = api_open_log(e, err)) || (r = loop_create(e)) || (r = clock_create(e)) || (r = memory_create(e, err)) || (r = api_create_chars(e, err)) ||
        (r = board_create(e, err)) || (r = api_create_monitors(e, err)) || (r = f->gdb ? gdb_create(e, f->gdb, err) : 0) ||
        (r = f->display == DISPLAY_CURSES ? curses_create(e, err) : 0) || (r = f->program ? silence_create(e) : 0))
        return r == EMU_ENOMEM && !err->text[0] ? err_set(err, r, "out of memory") : r;
    f->configured = true;
    board_reset(e);
    if (e->config.start_paused)
        machine_pause(e);
    return 0;
}

int emu_configure(struct emu *e, int argc, const char *const *argv, char *error, size_t error_size)
{
    struct err err;
    int r;
    err.text[0] = 0;
    if (!e || argc < 0 || (argc && !argv) || front_of(e)->configured)
        r = err_set(&err, EMU_EINVAL, "emu_configure: no machine, no arguments, or configured before");
    else
        r = front_configure(e, argc, argv, &err);
    if (r && error && error_size)
        snprintf(error, error_size, "%s", err.text);
    return r > 0 ? 0 : r;
}

void emu_destroy(struct emu *e)
{
    struct front *f;
    void *(*allocate)(void *, void *, size_t);
    void *opaque;
    if (!e)
        return;
    f = front_of(e);
    silence_destroy(e);
    curses_destroy(e);
    gdb_destroy(e);
    monitor_destroy_all(e);
    board_destroy(e);
    blk_close_all(e);
    chr_close_all(e);
    memory_destroy(e);
    clock_destroy(e);
    loop_destroy(e);
    front_free_config(e);
    while (f->provided) {
        struct provided *p = f->provided;
        f->provided = p->next;
        emu_free(e, p->name);
        emu_free(e, p);
    }
    emu_free(e, f->waits);
    if (f->log_file)
        fclose(f->log_file);
    allocate = f->hook_allocate;
    opaque = f->hook_opaque;
    if (allocate) {
        allocate(opaque, f, 0);
        allocate(opaque, e, 0);
    } else {
        free(f);
        free(e);
    }
}

/* ---- running ---- */

static void api_fill_waits(struct emu *e, struct emu_result *result)
{
    struct front *f = front_of(e);
    struct watch *w;
    size_t n = 0;
    if (f->wait_capacity < e->watch_count + 1) {
        size_t capacity = e->watch_count * 2 + 8;
        struct emu_wait *waits = emu_realloc(e, f->waits, capacity * sizeof *waits);
        if (waits) {
            f->waits = waits;
            f->wait_capacity = capacity;
        }
    }
    if (e->wake_read != HOST_FD_NONE && n < f->wait_capacity) {
        f->waits[n].fd = e->wake_read;
        f->waits[n++].events = EMU_WANT_READ;
    }
    for (w = e->watches; w && n < f->wait_capacity; w = w->next)
        if (w->want) {
            f->waits[n].fd = w->fd;
            f->waits[n++].events = (w->want & HOST_READ ? EMU_WANT_READ : 0) | (w->want & HOST_WRITE ? EMU_WANT_WRITE : 0);
        }
    result->waits = f->waits;
    result->wait_count = n;
}

int emu_run(struct emu *e, const struct emu_limits *limits, struct emu_result *result)
{
    struct emu_result ignored;
    int64_t deadline;
    if (!e || !front_of(e)->configured || e->current_cpu)
        return EMU_EINVAL;
    if (!result)
        result = &ignored;
    memset(result, 0, sizeof *result);
    if (limits)
        result->reason = machine_run(e, limits->host_ns, limits->instructions, limits->may_block != 0);
    else
        result->reason = machine_run(e, -1, -1, true);
    result->exit_status = e->exit_status;
    result->instructions = e->insn_total;
    result->now_ns = emu_now_ns(e);
    deadline = clock_next_deadline(e);
    result->next_deadline_ns = deadline == INT64_MAX ? INT64_MAX : EMU_MAX(deadline - result->now_ns, 0);
    api_fill_waits(e, result);
    return 0;
}

void emu_stop(struct emu *e)
{
    if (e)
        emu_request(e, REQ_EMBEDDER);
}

void emu_reset(struct emu *e)
{
    if (e)
        emu_request(e, REQ_RESET);
}

void emu_power_button(struct emu *e)
{
    if (e)
        emu_request(e, REQ_POWERDOWN);
}

int emu_pause(struct emu *e)
{
    if (!e || !front_of(e)->configured)
        return EMU_EINVAL;
    emu_request(e, REQ_STOP);
    return 0;
}

int emu_resume(struct emu *e) { return e && front_of(e)->configured ? machine_resume(e) : EMU_EINVAL; }

/* ---- memory and registers ---- */

int emu_read_memory(struct emu *e, uint64_t gpa, void *buffer, size_t bytes)
{
    if (!e || !front_of(e)->configured || (!buffer && bytes))
        return EMU_EINVAL;
    mem_read(e, gpa, buffer, bytes);
    return 0;
}

int emu_write_memory(struct emu *e, uint64_t gpa, const void *buffer, size_t bytes)
{
    if (!e || !front_of(e)->configured || (!buffer && bytes))
        return EMU_EINVAL;
    mem_write(e, gpa, buffer, bytes);
    return 0;
}

static struct cpu *api_cpu(struct emu *e, unsigned cpu) { return e && front_of(e)->configured && cpu < e->cpu_count ? e->cpus[cpu] : NULL; }

int emu_read_virtual(struct emu *e, unsigned cpu, uint64_t linear, void *buffer, size_t bytes)
{
    struct cpu *c = api_cpu(e, cpu);
    if (!c || (!buffer && bytes))
        return EMU_EINVAL;
    return cpu_debug_read(c, linear, buffer, bytes) ? 0 : EMU_EFAULT;
}

int emu_write_virtual(struct emu *e, unsigned cpu, uint64_t linear, const void *buffer, size_t bytes)
{
    struct cpu *c = api_cpu(e, cpu);
    if (!c || (!buffer && bytes))
        return EMU_EINVAL;
    return cpu_debug_write(c, linear, buffer, bytes) ? 0 : EMU_EFAULT;
}

unsigned emu_cpu_count(const struct emu *e) { return e ? e->cpu_count : 0; }

static const char *const api_gpr_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
static const char *const api_seg_names[8] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };

/* The register of that name where it is a plain 64-bit field, or NULL. */
static uint64_t *api_plain_register(struct cpu *c, const char *name)
{
    unsigned i;
    for (i = 0; i < 16; i++)
        if (!strcmp(name, api_gpr_names[i]))
            return &c->gpr[i];
    if (!strcmp(name, "rip"))
        return &c->rip;
    if (!strcmp(name, "cr2"))
        return &c->cr2;
    if (name[0] == 'd' && name[1] == 'r' && name[2] >= '0' && name[2] <= '7' && !name[3])
        return &c->dr[name[2] - '0'];
    return NULL;
}

int emu_read_register(struct emu *e, unsigned cpu, const char *name, uint64_t *value)
{
    struct cpu *c = api_cpu(e, cpu);
    uint64_t *plain;
    unsigned i;
    if (!c || !name || !value)
        return EMU_EINVAL;
    plain = api_plain_register(c, name);
    if (plain) {
        *value = *plain;
        return 0;
    }
    for (i = 0; i < 8; i++)
        if (!strcmp(name, api_seg_names[i])) {
            *value = c->seg[i].selector;
            return 0;
        }
    if (!strcmp(name, "rflags"))
        *value = cpu_eflags(c);
    else if (!strcmp(name, "cr0"))
        *value = c->cr0;
    else if (!strcmp(name, "cr3"))
        *value = c->cr3;
    else if (!strcmp(name, "cr4"))
        *value = c->cr4;
    else if (!strcmp(name, "cr8"))
        *value = lapic_get_tpr(c);
    else if (!strcmp(name, "efer"))
        *value = c->efer;
    else if (!strcmp(name, "fs_base"))
        *value = c->seg[SEG_FS].base;
    else if (!strcmp(name, "gs_base"))
        *value = c->seg[SEG_GS].base;
    else
        return EMU_ENOENT;
    return 0;
}

int emu_write_register(struct emu *e, unsigned cpu, const char *name, uint64_t value)
{
    struct cpu *c = api_cpu(e, cpu);
    uint64_t *plain;
    unsigned i;
    if (!c || !name)
        return EMU_EINVAL;
    plain = api_plain_register(c, name);
    if (plain) {
        *plain = value;
        return 0;
    }
    for (i = 0; i < 6; i++)
        if (!strcmp(name, api_seg_names[i])) {
            if (c->mode != MODE_REAL || value > 0xFFFF)
                return EMU_EINVAL;
            cpu_set_segment_real(c, i, (uint16_t)value);
            return 0;
        }
    if (!strcmp(name, "rflags")) {
        cpu_set_eflags(c, (uint32_t)value);
    } else if (!strcmp(name, "fs_base") || !strcmp(name, "gs_base")) {
        c->seg[name[0] == 'f' ? SEG_FS : SEG_GS].base = value;
        cpu_update_mode(c);
    } else if (!strcmp(name, "cr8")) {
        lapic_set_tpr(c, value);
    } else {
        return emu_read_register(e, cpu, name, &value) ? EMU_ENOENT : EMU_EINVAL;
    }
    return 0;
}

uint64_t emu_memory_hash(struct emu *e)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325), i;
    if (!e || !e->ram)
        return 0;
    for (i = 0; i < e->ram->size_bytes; i += 8)
        hash = (hash ^ ld64le(e->ram->bytes + i)) * UINT64_C(0x100000001B3);
    return hash;
}

/* ---- serial lines, screen, keys, monitor ---- */

int emu_serial_input(struct emu *e, const char *name, const void *bytes, size_t count)
{
    struct provided *p = e && name ? front_provided(e, PROVIDED_SERIAL, name) : NULL;
    size_t room;
    if (!p)
        return EMU_ENOENT;
    if (!p->chr || !p->chr->receive)
        return 0;
    room = p->chr->can_receive ? p->chr->can_receive(p->chr->opaque) : 0;
    room = EMU_MIN(EMU_MIN(room, count), (size_t)INT_MAX);
    if (room)
        p->chr->receive(p->chr->opaque, bytes, room);
    return (int)room;
}

int emu_net_input(struct emu *e, const char *name, const void *frame, size_t bytes)
{
    struct provided *p = e && name ? front_provided(e, PROVIDED_NET, name) : NULL;
    struct host_iov piece;
    struct net_frame f = { 0 };
    if (!p || !p->port)
        return EMU_ENOENT;
    if (!frame || bytes < 14 || bytes > 65549)
        return EMU_EINVAL;
    piece.base = (void *)(uintptr_t)frame;
    piece.size = bytes;
    f.pieces = &piece;
    f.count = 1;
    f.size = bytes;
    return net_send(p->port, &f);
}

int emu_get_screen(struct emu *e, struct emu_screen *screen)
{
    struct screen s = { 0 };
    if (!e || !screen)
        return EMU_EINVAL;
    if (!e->display)
        return EMU_ENOENT;
    e->display->update(e->display->opaque, &s);
    screen->pixels = s.pixels;
    screen->width = s.width;
    screen->height = s.height;
    screen->stride_pixels = s.stride_pixels;
    return 0;
}

uint64_t emu_screen_changes(struct emu *e) { return e && e->display ? e->display->change_count(e->display->opaque) : 0; }

int emu_send_key(struct emu *e, const char *name, int down)
{
    int key = e && name ? front_key_number(name) : -1;
    if (key < 0)
        return EMU_ENOENT;
    input_key(e, key, down != 0);
    return 0;
}

void emu_send_mouse(struct emu *e, int dx, int dy, int wheel, unsigned buttons)
{
    if (e)
        input_mouse(e, dx, dy, wheel, buttons);
}

int emu_monitor(struct emu *e, const char *line, char *reply, size_t reply_size)
{
    struct buf out;
    int r = 0;
    if (!e || !line || !front_of(e)->configured)
        return EMU_EINVAL;
    buf_init(&out, e);
    monitor_command(e, line, &out);
    if (reply && reply_size)
        snprintf(reply, reply_size, "%s", out.data ? (char *)out.data : "");
    if (out.failed)
        r = EMU_ENOMEM;
    buf_free(&out);
    return r;
}

/* ======================================== src/front/main.c ======================================== */

/* front/main.c - the emu program: one machine on this process's terminal.
 *
 * Contract   Left out with -DEMU_NO_MAIN. Exit status: 0 after the guest's power-off and after quit, 1 for a line that makes no sense or a
 *            machine that can't be built, else what isa-debug-exit gave.
 */

#ifndef EMU_NO_MAIN
/* The machine that signals end: the one mutable object at file scope, since a signal handler has no argument. Library builds have none. */
static struct emu *volatile main_machine;

static void main_signal(int kind)
{
    struct emu *e = main_machine;
    if (e && kind == 1)
        emu_request(e, REQ_EXIT);
}

static int main_write_pid(struct emu *e, struct err *err)
{
    char text[32];
    int n;
    if (!front_of(e)->pidfile)
        return 0;
    n = snprintf(text, sizeof text, "%ld\n", host_pid());
    if (host_file_save(front_of(e)->pidfile, text, (size_t)n, err))
        return err_prefix(err, EMU_EIO, "-pidfile %s", front_of(e)->pidfile);
    return 0;
}

int main(int argc, char **argv)
{
    struct emu *e = emu_new(NULL);
    struct emu_result result;
    struct err err;
    int r, status;
    err.text[0] = 0;
    if (!e) {
        fprintf(stderr, "emu: out of memory\n");
        return 1;
    }
    front_of(e)->program = true;
    r = front_configure(e, argc - 1, (const char *const *)argv + 1, &err);
    if (!r && front_of(e)->daemonize)
        r = host_daemonize(&err);
    if (!r)
        r = main_write_pid(e, &err);
    if (r) {
        emu_destroy(e);
        if (r < 0)
            fprintf(stderr, "emu: %s\n", err.text[0] ? err.text : emu_strerror(r));
        return r < 0;
    }
    main_machine = e;
    host_on_signals(main_signal);
    do
        emu_run(e, NULL, &result);
    while (result.reason != EMU_REASON_EXIT);
    main_machine = NULL;
    status = result.exit_status;
    if (front_of(e)->pidfile)
        host_path_remove(front_of(e)->pidfile);
    emu_destroy(e);
    return status;
}
#endif
