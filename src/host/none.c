/* host/none.c - a host of which nothing is known but C99: stdio files, no sockets, no terminal control.
 *
 * Contract   Implements host.h; chosen with -DEMU_HOST_NONE or when the system is unknown. What cannot be done answers EMU_ENOTSUP.
 * Theory     Files are stdio streams, so that sizes end where long ends. The clock is the processor time, which equals
 *            real time as long as we compute, and waiting is computing.
 * Invariants 1. Only functions of the C99 library are called.
 *            2. Standard output is written as text arrives; standard input is never read, since a read could block.
 */
#include "../machine.h"

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
EMU_PRIV int host_recv_error(host_fd fd, struct host_icmp_error *e)
{
    (void)fd;
    (void)e;
    return EMU_ENOTSUP;
}
EMU_PRIV int host_file_open_beneath(struct host_file **out, const char *folder, const char *path)
{
    (void)folder;
    (void)path;
    *out = NULL;
    return EMU_ENOTSUP;
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
EMU_PRIV unsigned host_terminal_returns(void) { return 0; }
EMU_PRIV void host_terminal_size(int *columns, int *rows)
{
    *columns = 80;
    *rows = 24;
}
EMU_PRIV int host_daemonize(struct err *err) { return none_unsupported(err, "-daemonize"); }
EMU_PRIV int host_daemonize_done(struct err *err) { return none_unsupported(err, "-daemonize"); }
EMU_PRIV long host_pid(void) { return 0; }
EMU_PRIV void host_on_signals(void (*handler)(int kind)) { (void)handler; }
EMU_PRIV int host_tap_open(host_fd *out, char *ifname, size_t ifname_size, bool *vnet_hdr, struct err *err)
{
    (void)ifname, (void)ifname_size, (void)vnet_hdr;
    *out = HOST_FD_NONE;
    return none_unsupported(err, "tap");
}
EMU_PRIV bool host_tap_has_vnet(host_fd fd)
{
    (void)fd;
    return false;
}

EMU_PRIV int host_spawn_for_fd(const char *helper, const char *bridge, host_fd *out, struct err *err)
{
    (void)bridge;
    *out = HOST_FD_NONE;
    return err_set(err, EMU_ENOTSUP, "%s: this host has no bridge helpers", helper);
}

EMU_PRIV int host_tap_offload(host_fd fd, bool csum, bool tso4, bool tso6)
{
    (void)fd, (void)csum, (void)tso4, (void)tso6;
    return EMU_ENOTSUP;
}

#endif /* EMU_HOST_NONE */
