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
/* What the network said about a datagram sent earlier (HOST_OPT_RECVERR). */
enum host_unreach { HOST_UNREACH_NONE, HOST_UNREACH_NET, HOST_UNREACH_HOST, HOST_UNREACH_PORT, HOST_UNREACH_ADMIN, HOST_UNREACH_TTL };
struct host_icmp_error {
    struct host_addr to, by; /* where the datagram went; who complains (family 0: the host itself) */
    enum host_unreach why;
    uint8_t data[8]; /* the datagram's first bytes */
    size_t size;     /* bytes of it that came back */
};
EMU_PRIV int host_recv_error(host_fd fd, struct host_icmp_error *e); /* 0, EMU_EAGAIN: none, or EMU_ENOTSUP */
/* A regular file below folder, read-only; no component of path may be "..", a symbolic link, or lead outside. */
EMU_PRIV int host_file_open_beneath(struct host_file **out, const char *folder, const char *path);
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
EMU_PRIV unsigned host_terminal_returns(void); /* how often the process was continued after a stop, another having had the terminal */

/* ---- process ---- */
/* Goes on in a child; the parent waits for host_daemonize_done(), which gives up the terminal, and ends with 0, or with 1 if the child ends before it. */
EMU_PRIV int host_daemonize(struct err *err);
EMU_PRIV int host_daemonize_done(struct err *err);
EMU_PRIV long host_pid(void);
EMU_PRIV void host_on_signals(void (*handler)(int kind)); /* SIGINT, SIGTERM, SIGHUP -> 1; SIGWINCH -> 2; handler must be async-signal-safe */
/* Which frames the host may hand over unfinished on a tap with vnet_hdr; EMU_ENOTSUP. */
EMU_PRIV int host_tap_offload(host_fd fd, bool csum, bool tso4, bool tso6);
EMU_PRIV bool host_tap_has_vnet(host_fd fd); /* frames on that tap have a virtio header in front */
/* Runs a bridge helper (--use-vnet --fd=N --br=NAME), which passes back an open tap. */
EMU_PRIV int host_spawn_for_fd(const char *helper, const char *bridge, host_fd *out, struct err *err);
EMU_PRIV int host_tap_open(host_fd *out, char *ifname, size_t ifname_size, bool *vnet_hdr, struct err *err); /* EMU_ENOTSUP where there is no tap */

#endif
