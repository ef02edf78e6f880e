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
#include "../machine.h"

#ifdef EMU_HOST_POSIX

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
    struct termios saved, raw_settings;
    volatile sig_atomic_t saved_valid, raw, returns;
    bool exit_hooked;
    void (*volatile on_signal)(int kind);
    int daemon_pipe; /* to the parent that waits in host_daemonize() */
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
    int lost; /* EMU_E... of a failed flush; what it should have written may be gone */
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
    if (f->lost)
        return f->lost;
    do {
#if defined(F_FULLFSYNC)
        r = fcntl(f->fd, F_FULLFSYNC);
        if (r < 0 && errno != EINTR)
            r = fsync(f->fd);
#elif defined(__linux__) || (defined(_POSIX_SYNCHRONIZED_IO) && _POSIX_SYNCHRONIZED_IO > 0)
        r = fdatasync(f->fd);
#else
        r = fsync(f->fd);
#endif
    } while (r < 0 && errno == EINTR);
    if (r < 0 && f->device && (errno == EINVAL || errno == ENOTSUP))
        return 0; /* character devices have nothing to flush */
    if (r < 0)
        f->lost = posix_error(errno); /* Linux reports it once and takes the pages for clean: the next call would succeed though data is lost */
    return f->lost;
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

#ifdef __linux__
/* What IP_RECVERR brings: ip(7), struct sock_extended_err. The kernel's headers are not there on every host with a C library. */
struct posix_extended_err {
    uint32_t ee_errno;
    uint8_t ee_origin, ee_type, ee_code, ee_pad;
    uint32_t ee_info, ee_data;
};
enum { POSIX_EE_ORIGIN_LOCAL = 1, POSIX_EE_ORIGIN_ICMP = 2, POSIX_EE_ORIGIN_ICMP6 = 3 };

static enum host_unreach posix_unreach(const struct posix_extended_err *x)
{
    bool v6 = x->ee_origin == POSIX_EE_ORIGIN_ICMP6;
    if (x->ee_origin == POSIX_EE_ORIGIN_LOCAL)
        return x->ee_errno == ENETUNREACH ? HOST_UNREACH_NET : x->ee_errno == EHOSTUNREACH ? HOST_UNREACH_HOST : HOST_UNREACH_NONE;
    if (!v6 && x->ee_origin != POSIX_EE_ORIGIN_ICMP)
        return HOST_UNREACH_NONE;
    if (x->ee_type == (v6 ? 3 : 11)) /* time exceeded: RFC 4443, RFC 792 */
        return HOST_UNREACH_TTL;
    if (x->ee_type != (v6 ? 1 : 3))
        return HOST_UNREACH_NONE;
    switch (x->ee_code) {
    case 0: return HOST_UNREACH_NET;
    case 1: return v6 ? HOST_UNREACH_ADMIN : HOST_UNREACH_HOST;
    case 3: return v6 ? HOST_UNREACH_HOST : HOST_UNREACH_PORT;
    case 4: return v6 ? HOST_UNREACH_PORT : HOST_UNREACH_NONE; /* IPv4: fragmentation needed, the kernel's own business */
    case 9:
    case 10:
    case 13: return HOST_UNREACH_ADMIN;
    default: return HOST_UNREACH_HOST;
    }
}
#endif

EMU_PRIV int host_recv_error(host_fd fd, struct host_icmp_error *e)
{
    memset(e, 0, sizeof *e);
#ifdef __linux__
    {
        union posix_sockaddr to;
        union {
            struct cmsghdr align;
            char bytes[512];
        } control;
        struct msghdr m;
        struct cmsghdr *c;
        struct iovec v;
        ssize_t n;
        memset(&m, 0, sizeof m);
        memset(&to, 0, sizeof to);
        v.iov_base = e->data;
        v.iov_len = sizeof e->data;
        m.msg_name = &to;
        m.msg_namelen = sizeof to;
        m.msg_iov = &v;
        m.msg_iovlen = 1;
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        do
            n = recvmsg((int)fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT | MSG_TRUNC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            return posix_error(errno);
        e->size = (size_t)n;
        posix_from_sockaddr(&to, m.msg_namelen, &e->to);
        for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
            if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) || (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
                struct posix_extended_err x;
                if (c->cmsg_len < CMSG_LEN(sizeof x))
                    continue;
                memcpy(&x, CMSG_DATA(c), sizeof x);
                e->why = posix_unreach(&x);
                if (x.ee_origin != POSIX_EE_ORIGIN_LOCAL && c->cmsg_len >= CMSG_LEN(sizeof x + sizeof(struct sockaddr_in))) {
                    union posix_sockaddr by;
                    size_t size = EMU_MIN((size_t)c->cmsg_len - CMSG_LEN(sizeof x), sizeof by);
                    memset(&by, 0, sizeof by);
                    memcpy(&by, (const char *)CMSG_DATA(c) + sizeof x, size);
                    posix_from_sockaddr(&by, (socklen_t)size, &e->by);
                }
            }
        return 0;
    }
#else
    (void)fd;
    return EMU_ENOTSUP;
#endif
}

EMU_PRIV int host_file_open_beneath(struct host_file **out, const char *folder, const char *path)
{
    char part[256];
    struct stat st;
    int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), next;
    *out = NULL;
    if (at < 0)
        return posix_error(errno);
    while (*path == '/')
        path++;
    for (;;) {
        const char *slash = strchr(path, '/');
        size_t n = slash ? (size_t)(slash - path) : strlen(path);
        if (!n || n >= sizeof part || (n == 2 && path[0] == '.' && path[1] == '.')) {
            close(at);
            return EMU_EACCES;
        }
        memcpy(part, path, n);
        part[n] = 0;
        next = openat(at, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (slash ? O_DIRECTORY : 0));
        close(at);
        if (next < 0)
            return errno == ELOOP || errno == ENOTDIR ? EMU_EACCES : posix_error(errno);
        at = next;
        if (!slash)
            break;
        for (path = slash; *path == '/'; path++) {
        }
    }
    if (fstat(at, &st) || !S_ISREG(st.st_mode)) {
        close(at);
        return EMU_EACCES;
    }
    *out = posix_file_new(at, false);
    if (!*out) {
        close(at);
        return EMU_ENOMEM;
    }
    return 0;
}

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

/* A shell has had the terminal while we were stopped: raw again. */
static void posix_continued(int number)
{
    int was = errno;
    pid_t owner = posix_process.raw ? tcgetpgrp(0) : 0;
    if (posix_process.raw && (owner < 0 || owner == getpgrp())) /* in the background it is the shell's still */
        tcsetattr(0, TCSANOW, &posix_process.raw_settings);
    posix_process.returns = (posix_process.returns + 1) & 0xFF;
    (void)number;
    errno = was;
}

static void posix_hook_exit(void)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGQUIT, SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGALRM };
    struct sigaction was, now;
    size_t i;
    if (posix_process.exit_hooked)
        return;
    posix_process.exit_hooked = true;
    atexit(posix_terminal_restore);
    if (!sigaction(SIGCONT, NULL, &was) && was.sa_handler == SIG_DFL) {
        memset(&now, 0, sizeof now);
        now.sa_handler = posix_continued;
        now.sa_flags = SA_RESTART;
        sigaction(SIGCONT, &now, NULL);
    }
    for (i = 0; i < EMU_ARRAY_LEN(fatal); i++) {
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
    posix_process.raw = 0; /* no signal sees the settings half written */
    posix_process.raw_settings = t;
    posix_process.raw = 1;
    return tcsetattr(0, TCSANOW, &t) ? posix_error(errno) : 0;
}

EMU_PRIV unsigned host_terminal_returns(void) { return (unsigned)posix_process.returns; }

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
    int told[2];
    pid_t child;
    if (pipe(told))
        return posix_fail(err, "-daemonize");
    child = fork();
    if (child < 0)
        return posix_fail(err, "-daemonize");
    if (child > 0) { /* the child keeps files and locks; what it says, or its end, is the status here */
        char status = 1;
        close(told[1]);
        while (read(told[0], &status, 1) < 0 && errno == EINTR) {
        }
        _exit(status);
    }
    close(told[0]);
    fcntl(told[1], F_SETFD, FD_CLOEXEC);
    posix_process.daemon_pipe = told[1];
    setsid();
    return 0;
}

EMU_PRIV int host_daemonize_done(struct err *err)
{
    int null = open("/dev/null", O_RDWR);
    if (null < 0)
        return posix_fail(err, "/dev/null");
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    if (null > 2)
        close(null);
    if (write(posix_process.daemon_pipe, "", 1) < 0 || close(posix_process.daemon_pipe)) {
        /* nobody waits any more */
    }
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
#ifdef __GLIBC__
typedef unsigned long posix_ioctl; /* ioctl()'s second argument */
#else
typedef int posix_ioctl;
#endif
#define POSIX_TUNGETIFF _IOR('T', 210, unsigned int)
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
        if (*vnet_hdr && (ioctl(fd, (posix_ioctl)POSIX_TUNGETFEATURES, &features) || !(features & POSIX_IFF_VNET_HDR)))
            *vnet_hdr = false;
        r.ifr_flags = (short)(POSIX_IFF_TAP | POSIX_IFF_NO_PI | (*vnet_hdr ? POSIX_IFF_VNET_HDR : 0));
        if (ioctl(fd, (posix_ioctl)POSIX_TUNSETIFF, &r) < 0) {
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
    return ioctl((int)fd, (posix_ioctl)POSIX_TUNSETOFFLOAD, (unsigned long)flags) < 0 ? posix_error(errno) : 0;
#else
    (void)fd, (void)csum, (void)tso4, (void)tso6;
    return EMU_ENOTSUP;
#endif
}

EMU_PRIV bool host_tap_has_vnet(host_fd fd)
{
#ifdef __linux__
    struct ifreq r;
    memset(&r, 0, sizeof r);
    return ioctl((int)fd, (posix_ioctl)POSIX_TUNGETIFF, &r) >= 0 && ((unsigned)r.ifr_flags & POSIX_IFF_VNET_HDR);
#else
    (void)fd;
    return false;
#endif
}

EMU_PRIV int host_spawn_for_fd(const char *helper, const char *bridge, host_fd *out, struct err *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message;
    struct iovec piece;
    struct cmsghdr *c;
    char byte, fd_arg[32], bridge_arg[64];
    const char *argv[5];
    int s[2], fd = -1, status = 0;
    ssize_t n;
    pid_t child;
    *out = HOST_FD_NONE;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s))
        return posix_fail(err, helper);
    posix_cloexec(s[0]);
    snprintf(fd_arg, sizeof fd_arg, "--fd=%d", s[1]);
    snprintf(bridge_arg, sizeof bridge_arg, "--br=%s", bridge);
    argv[0] = helper, argv[1] = "--use-vnet", argv[2] = fd_arg, argv[3] = bridge_arg, argv[4] = NULL;
    child = fork();
    if (child == 0) {
        execv(helper, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(s[1]);
    if (child < 0) {
        close(s[0]);
        return posix_fail(err, helper);
    }
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    piece.iov_base = &byte;
    piece.iov_len = 1;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    do
        n = recvmsg(s[0], &message, 0);
    while (n < 0 && errno == EINTR);
    for (c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL; c; c = CMSG_NXTHDR(&message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
    close(s[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (fd < 0)
        return err_set(err, EMU_EIO, "%s gave no interface on bridge %s (status %d)", helper, bridge, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    posix_cloexec(fd);
    *out = fd;
    return 0;
}

/* Terminal and interface headers leave short macros behind. */
#undef POSIX_TCP_NODELAY
#undef POSIX_POLL_ON_STACK
#undef POSIX_TUNSETIFF
#undef POSIX_TUNGETIFF
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
