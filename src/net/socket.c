/* net/socket.c - frames over sockets: -netdev socket, stream and dgram.
 *
 * Models     The documented formats of QEMU's three backends: over a stream each frame follows its length as a 32-bit big-endian number; over
 *            datagrams each is one datagram. So machines of either program can be joined.
 * Contract   link.c creates one from the command line or the monitor. Peers' bytes are hostile: a length that no frame has ends the connection.
 * Theory     Stream:  listening --accept--> connected --end--> listening (a second client waits in the backlog until the first is gone;
 *                     where accept fails, so does the first until the next try)
 *                     connecting --writable--> connected --end or refused--> idle --reconnect timer--> connecting
 *            A frame for the peer goes into an output buffer that is written at once; while it is not empty, senders are told to wait. Frames
 *            from the peer are taken out of an input buffer; while our machine has no room, the socket is not read, so that TCP's own
 *            flow control stops the peer. Without a connection frames are dropped and the link stays up, as with an unplugged switch.
 *            Datagrams: nothing is buffered but the one that our machine has no room for.
 * Invariants 1. The descriptor is watched for reading exactly while the input buffer holds no whole frame, for writing while output waits.
 *            2. A multicast group gives us our own frames back: they are known by their hash and dropped.
 * Missing    fd= takes numbers, not names that a monitor gave. VLAN hubs over socket fd= are streams: for datagram descriptors use dgram,local.type=fd.
 */
#include "../machine.h"
#include "net.h"

enum {
    SOCKET_FRAME_MAX = 69632, /* more than 64 KiB with every header; QEMU's own limit */
    SOCKET_OUT = 262144, SOCKET_IN = 262144, SOCKET_ECHOES = 256, SOCKET_DATAGRAMS = 64 /* read in a row */,
    SOCKET_ADDRESSES = 8 /* of a host's name that are looked at */, SOCKET_IPV4 = 1, SOCKET_IPV6 = 2 /* families */
};
#define SOCKET_ACCEPT_PAUSE_NS NS_PER_SEC /* after an accept that failed */
#define SOCKET_CONNECT_WAIT_NS (5 * NS_PER_SEC) /* -netdev socket,connect= is an error at start when nobody listens */

struct socket_link {
    struct net_port port;
    char *where; /* for messages and info network */
    bool dgram, connected, connecting, said_failure;
    host_fd fd, listen_fd;
    struct watch watch, listen_watch;
    struct timer retry; /* of connect, or of accept */
    int64_t retry_ns; /* 0: never */
    struct host_addr to; /* stream: what to connect to; dgram: where frames go */
    bool has_to, multicast;
    char *unlink_path;
    /* stream: bytes on their way; dgram: in holds the datagram that waits */
    uint8_t *in, *out;
    size_t in_size, out_start, out_size;
    uint32_t echoes[SOCKET_ECHOES];
    unsigned echo_next;
    uint64_t overflow;
};

static void socket_start_connect(struct socket_link *s);

/* ---- both kinds ---- */

static void socket_wants(struct socket_link *s, bool read)
{
    if (s->fd != HOST_FD_NONE)
        watch_want(&s->watch, (read ? HOST_READ : 0) | (s->out_size || s->connecting ? HOST_WRITE : 0));
}

static void socket_free(struct socket_link *s)
{
    struct emu *e = s->port.emu;
    timer_cancel(&s->retry);
    if (s->fd != HOST_FD_NONE) {
        watch_remove(e, &s->watch);
        host_fd_close(s->fd);
    }
    if (s->listen_fd != HOST_FD_NONE) {
        watch_remove(e, &s->listen_watch);
        host_fd_close(s->listen_fd);
    }
    if (s->unlink_path)
        host_path_remove(s->unlink_path);
    emu_free(e, s->unlink_path);
    emu_free(e, s->where);
    emu_free(e, s->in);
    emu_free(e, s->out);
    emu_free(e, s);
}

static void socket_destroy(struct net_port *p)
{
    struct socket_link *s = p->opaque;
    net_port_unregister(p->emu, p);
    socket_free(s);
}

static void socket_info(struct net_port *p, struct buf *out)
{
    struct socket_link *s = p->opaque;
    const char *state = s->dgram || s->connected ? "" : s->connecting ? " (connecting)" : s->listen_fd != HOST_FD_NONE ? " (waiting)" : " (not connected)";
    buf_printf(out, "%s%s", s->where, state);
}

/* One frame from the peer's bytes to our machine. 0: no room. */
static int socket_give(struct socket_link *s, uint8_t *bytes, size_t size)
{
    struct host_iov piece;
    struct net_frame f;
    if (size < 14)
        return 1;
    memset(&f, 0, sizeof f);
    piece.base = bytes;
    piece.size = size;
    f.pieces = &piece;
    f.count = 1;
    f.size = size;
    return net_send(&s->port, &f);
}

/* ---- streams ---- */

static void socket_disconnect(struct socket_link *s, const char *why)
{
    struct emu *e = s->port.emu;
    if (s->fd == HOST_FD_NONE)
        return;
    emu_log(e, LOG_NET, "%s: %s: %s", s->port.name, s->where, why);
    watch_remove(e, &s->watch);
    host_fd_close(s->fd);
    s->fd = HOST_FD_NONE;
    s->connected = s->connecting = false;
    s->in_size = s->out_size = s->out_start = 0;
    if (s->listen_fd != HOST_FD_NONE)
        watch_want(&s->listen_watch, HOST_READ);
    else if (s->retry_ns && s->has_to)
        timer_arm(&s->retry, emu_now_ns(e) + s->retry_ns);
    net_kick_peer(&s->port); /* what waited is dropped from now on */
}

/* Hands over whole frames. true: all of them were taken. */
static bool socket_parse(struct socket_link *s)
{
    size_t at = 0;
    bool room = true;
    while (s->in_size - at >= 4) {
        uint32_t size = ld32be(s->in + at);
        if (size > SOCKET_FRAME_MAX) {
            emu_log(s->port.emu, LOG_NOTICE, "%s: %s sent a frame of %" PRIu32 " bytes, which is none; disconnected", s->port.name, s->where, size);
            socket_disconnect(s, "bad length");
            return false;
        }
        if (s->in_size - at - 4 < size)
            break;
        if (!socket_give(s, s->in + at + 4, size)) {
            room = false;
            break;
        }
        if (s->fd == HOST_FD_NONE) /* closed by what the frame led to */
            return false;
        at += 4 + (size_t)size;
    }
    if (at) {
        memmove(s->in, s->in + at, s->in_size - at);
        s->in_size -= at;
    }
    socket_wants(s, room);
    return room;
}

static void socket_read(struct socket_link *s)
{
    unsigned rounds;
    for (rounds = 0; rounds < 4 && s->fd != HOST_FD_NONE; rounds++) {
        int n = host_fd_read(s->fd, s->in + s->in_size, SOCKET_IN - s->in_size);
        if (n == EMU_EAGAIN)
            return;
        if (n <= 0) {
            socket_disconnect(s, n ? emu_strerror(n) : "closed by the peer");
            return;
        }
        s->in_size += (size_t)n;
        if (!socket_parse(s))
            return;
    }
}

static void socket_write(struct socket_link *s)
{
    while (s->out_size) {
        int n = host_fd_write(s->fd, s->out + s->out_start, s->out_size);
        if (n == EMU_EAGAIN)
            break;
        if (n < 0) {
            socket_disconnect(s, emu_strerror(n));
            return;
        }
        s->out_start += (size_t)n;
        s->out_size -= (size_t)n;
    }
    if (!s->out_size)
        s->out_start = 0;
    watch_want(&s->watch, (s->watch.want & HOST_READ) | (s->out_size ? HOST_WRITE : 0));
}

static void socket_failed(struct socket_link *s, int code)
{
    if (!s->said_failure) /* once until it works: a retry each second would fill the screen */
        emu_log(s->port.emu, LOG_NOTICE, "%s: %s: %s%s", s->port.name, s->where, emu_strerror(code), s->retry_ns ? "; trying again" : "");
    s->said_failure = true;
    socket_disconnect(s, emu_strerror(code));
}

static void socket_ready(void *opaque, unsigned events)
{
    struct socket_link *s = opaque;
    if (s->connecting) {
        int code;
        if (!(events & (HOST_WRITE | HOST_ERROR)))
            return;
        code = host_socket_error(s->fd);
        if (code) {
            socket_failed(s, code);
            return;
        }
        s->connecting = false;
        s->connected = true;
        s->said_failure = false;
        host_set_option(s->fd, HOST_OPT_NODELAY, 1);
        socket_wants(s, true);
        net_kick_peer(&s->port);
        return;
    }
    if (events & HOST_WRITE) {
        socket_write(s);
        if (s->fd != HOST_FD_NONE && !s->out_size)
            net_kick_peer(&s->port);
    }
    if ((events & (HOST_READ | HOST_ERROR)) && s->fd != HOST_FD_NONE)
        socket_read(s);
}

static void socket_use(struct socket_link *s, host_fd fd, bool connected)
{
    s->fd = fd;
    s->connected = connected;
    s->connecting = !connected;
    watch_add(s->port.emu, &s->watch, fd, connected ? HOST_READ : HOST_WRITE, socket_ready, s);
}

static void socket_start_connect(struct socket_link *s)
{
    host_fd fd;
    int r = host_socket(&fd, s->to.family, HOST_STREAM);
    if (!r) {
        r = host_connect(fd, &s->to);
        if (r && r != EMU_EAGAIN)
            host_fd_close(fd);
    }
    if (r && r != EMU_EAGAIN) {
        if (!s->said_failure)
            emu_log(s->port.emu, LOG_NOTICE, "%s: %s: %s%s", s->port.name, s->where, emu_strerror(r), s->retry_ns ? "; trying again" : "");
        s->said_failure = true;
        if (s->retry_ns)
            timer_arm(&s->retry, emu_now_ns(s->port.emu) + s->retry_ns);
        return;
    }
    socket_use(s, fd, r == 0);
    if (!r) {
        s->said_failure = false;
        host_set_option(fd, HOST_OPT_NODELAY, 1);
    }
}

static void socket_retry(void *opaque)
{
    struct socket_link *s = opaque;
    if (s->listen_fd == HOST_FD_NONE)
        socket_start_connect(s);
    else if (s->fd == HOST_FD_NONE)
        watch_want(&s->listen_watch, HOST_READ);
}

static void socket_accept(void *opaque, unsigned events)
{
    struct socket_link *s = opaque;
    struct host_addr peer;
    host_fd fd;
    int r;
    (void)events;
    if (s->fd != HOST_FD_NONE)
        return;
    r = host_accept(s->listen_fd, &fd, &peer);
    if (r == EMU_EAGAIN)
        return;
    if (r < 0) { /* out of descriptors: the client stays in the backlog, and looking again at once would spin */
        emu_log_once(s->port.emu, &s->said_failure, LOG_NOTICE, "%s: %s: cannot take the connection: %s; trying again", s->port.name, s->where,
                     r == EMU_ENOMEM ? "the host gives no more sockets (ulimit -n)" : emu_strerror(r));
        watch_want(&s->listen_watch, 0);
        timer_arm(&s->retry, emu_now_ns(s->port.emu) + SOCKET_ACCEPT_PAUSE_NS);
        return;
    }
    host_set_option(fd, HOST_OPT_NODELAY, 1);
    socket_use(s, fd, true);
    watch_want(&s->listen_watch, 0);
    net_kick_peer(&s->port);
}

static bool socket_stream_can_receive(struct net_port *p)
{
    struct socket_link *s = p->opaque;
    return !s->connected || !s->out_size;
}

static int socket_stream_frame(void *opaque, const struct net_frame *f)
{
    struct socket_link *s = opaque;
    size_t at = s->out_start + s->out_size;
    if (f->size + 4 > SOCKET_OUT - at) {
        s->port.drops_in++;
        return 1;
    }
    st32be(s->out + at, (uint32_t)f->size);
    net_frame_copy(f, 0, s->out + at + 4, f->size);
    s->out_size += f->size + 4;
    return 1;
}

static int socket_stream_receive(struct net_port *p, const struct net_frame *f)
{
    struct socket_link *s = p->opaque;
    if (!s->connected) {
        p->drops_in++;
        return 1;
    }
    if (s->out_size)
        return 0;
    if (f->gso != NET_GSO_NONE || f->needs_csum)
        net_frame_cut(p->emu, f, socket_stream_frame, s);
    else
        socket_stream_frame(s, f);
    socket_write(s);
    emu_poll_now(p->emu); /* an answer is likely */
    return 1;
}

static void socket_stream_kick(struct net_port *p)
{
    struct socket_link *s = p->opaque;
    if (s->connected)
        socket_parse(s);
}

/* ---- datagrams ---- */

static uint32_t socket_hash(const uint8_t *p, size_t size)
{
    uint32_t h = UINT32_C(2166136261) ^ (uint32_t)size; /* FNV-1a; never 0, which marks a free place */
    while (size--)
        h = (h ^ *p++) * UINT32_C(16777619);
    return h | 1;
}

/* Our own frame, come back from the group? */
static bool socket_is_echo(struct socket_link *s, const uint8_t *p, size_t size)
{
    uint32_t h = socket_hash(p, size);
    unsigned i;
    for (i = 0; i < SOCKET_ECHOES; i++)
        if (s->echoes[i] == h) {
            s->echoes[i] = 0;
            return true;
        }
    return false;
}

static void socket_dgram_read(struct socket_link *s)
{
    unsigned n;
    if (s->in_size) {
        if (!socket_give(s, s->in, s->in_size))
            return;
        s->in_size = 0;
    }
    for (n = 0; n < SOCKET_DATAGRAMS; n++) {
        struct host_addr from;
        int size = host_recv_from(s->fd, s->in, SOCKET_FRAME_MAX, &from);
        if (size == EMU_ECONNREFUSED || size == EMU_EUNREACH) /* about what we sent */
            continue;
        if (size < 0)
            break;
        if (s->multicast && socket_is_echo(s, s->in, (size_t)size))
            continue;
        if (!socket_give(s, s->in, (size_t)size)) {
            s->in_size = (size_t)size;
            break;
        }
    }
    socket_wants(s, !s->in_size);
}

static void socket_dgram_ready(void *opaque, unsigned events)
{
    struct socket_link *s = opaque;
    if (events & HOST_WRITE) {
        s->out_size = 0;
        socket_wants(s, !s->in_size);
        net_kick_peer(&s->port);
    }
    if (events & (HOST_READ | HOST_ERROR))
        socket_dgram_read(s);
}

static bool socket_dgram_can_receive(struct net_port *p) { return !((struct socket_link *)p->opaque)->out_size; }

static int socket_dgram_frame(void *opaque, const struct net_frame *f)
{
    struct socket_link *s = opaque;
    const uint8_t *bytes = f->pieces[0].base;
    int r;
    if (f->size > SOCKET_FRAME_MAX) {
        s->port.drops_in++;
        return 1;
    }
    if (f->count > 1) {
        net_frame_copy(f, 0, s->out, f->size);
        bytes = s->out;
    }
    r = s->has_to ? host_send_to(s->fd, bytes, f->size, &s->to) : host_fd_write(s->fd, bytes, f->size);
    if (r == EMU_EAGAIN) {
        s->out_size = 1; /* no room: wait until it is writable */
        socket_wants(s, !s->in_size);
        return 0;
    }
    if (r < 0)
        s->port.drops_in++; /* nobody there: as on any wire */
    else if (s->multicast) {
        s->echoes[s->echo_next] = socket_hash(bytes, f->size);
        s->echo_next = (s->echo_next + 1) % SOCKET_ECHOES;
    }
    return 1;
}

static int socket_dgram_receive(struct net_port *p, const struct net_frame *f)
{
    struct socket_link *s = p->opaque;
    int r;
    if (s->out_size)
        return 0;
    if (f->gso != NET_GSO_NONE || f->needs_csum)
        r = net_frame_cut(p->emu, f, socket_dgram_frame, s) > 0 || !s->out_size; /* what can't be cut is gone */
    else
        r = socket_dgram_frame(s, f);
    emu_poll_now(p->emu);
    return r;
}

static void socket_dgram_kick(struct net_port *p)
{
    struct socket_link *s = p->opaque;
    if (s->in_size)
        socket_dgram_read(s);
}

/* ---- options ---- */

static struct socket_link *socket_new(struct emu *e, const char *id, const char *model, bool dgram, const char *where, struct err *err)
{
    struct socket_link *s = emu_alloc(e, sizeof *s);
    if (s) {
        s->port.emu = e;
        s->fd = s->listen_fd = HOST_FD_NONE;
        timer_init(&s->retry, e, socket_retry, s);
        s->in = emu_alloc(e, dgram ? SOCKET_FRAME_MAX : SOCKET_IN);
        s->out = emu_alloc(e, dgram ? SOCKET_FRAME_MAX : SOCKET_OUT);
        s->where = emu_strdup(e, where);
    }
    if (!s || !s->in || !s->out || !s->where) {
        err_set(err, EMU_ENOMEM, "-netdev %s: out of memory", model);
        if (s)
            socket_free(s);
        return NULL;
    }
    s->dgram = dgram;
    snprintf(s->port.name, sizeof s->port.name, "%s", id);
    snprintf(s->port.model, sizeof s->port.model, "%s", model);
    s->port.opaque = s;
    s->port.takes_gso = s->port.takes_csum = true;
    s->port.max_frame = SOCKET_FRAME_MAX;
    s->port.can_receive = dgram ? socket_dgram_can_receive : socket_stream_can_receive;
    s->port.receive = dgram ? socket_dgram_receive : socket_stream_receive;
    s->port.kick = dgram ? socket_dgram_kick : socket_stream_kick;
    s->port.destroy = socket_destroy;
    s->port.info = socket_info;
    return s;
}

static int socket_done(struct emu *e, struct socket_link *s, int r, struct net_port **out)
{
    if (r) {
        socket_free(s);
        return r;
    }
    net_port_register(e, &s->port);
    *out = &s->port;
    return 0;
}

static int socket_listen(struct socket_link *s, const struct host_addr *a, const char *what, struct err *err)
{
    int r;
    if (a->family == HOST_UNIX && host_path_kind(a->path) == HOST_KIND_SOCKET) {
        /* left behind by a process that is gone? */
        host_fd probe;
        bool alive = false;
        if (!host_socket(&probe, HOST_UNIX, HOST_STREAM)) {
            r = host_connect(probe, a);
            alive = !r || r == EMU_EAGAIN;
            host_fd_close(probe);
        }
        if (alive)
            return err_set(err, EMU_EADDRINUSE, "%s: %s: another program listens there", what, a->path);
        host_path_remove(a->path);
    }
    if ((r = host_socket(&s->listen_fd, a->family, HOST_STREAM)))
        return err_set(err, r, "%s: %s", what, emu_strerror(r));
    if ((r = host_bind(s->listen_fd, a, true)) || (r = host_listen(s->listen_fd, 1))) {
        host_fd_close(s->listen_fd);
        s->listen_fd = HOST_FD_NONE;
        return err_set(err, r, "%s: cannot listen there: %s", what, emu_strerror(r));
    }
    if (a->family == HOST_UNIX)
        s->unlink_path = emu_strdup(s->port.emu, a->path);
    watch_add(s->port.emu, &s->listen_watch, s->listen_fd, HOST_READ, socket_accept, s);
    return 0;
}

/* host:port, [v6]:port, :port; into one address of a family that is wanted. */
static int socket_host_port(const char *origin, const char *key, const char *text, bool any_allowed, unsigned families, struct host_addr *a, struct err *err)
{
    const char *colon = strrchr(text, ':');
    struct host_addr list[SOCKET_ADDRESSES];
    char host[256];
    uint64_t port;
    size_t n = colon ? (size_t)(colon - text) : 0;
    int count, i;
    if (!colon || n >= sizeof host || parse_u64(colon + 1, 0, 65535, &port))
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not host:port", origin, key, text);
    memcpy(host, text, n);
    host[n] = 0;
    if (!n && !any_allowed)
        snprintf(host, sizeof host, families & SOCKET_IPV4 ? "127.0.0.1" : "::1");
    else if (!n)
        snprintf(host, sizeof host, families & SOCKET_IPV4 ? "0.0.0.0" : "::");
    count = host_resolve(host, (uint16_t)port, list, SOCKET_ADDRESSES, err);
    if (count < 1)
        return err_set(err, EMU_ENOENT, "%s: %s=%s: there is no such host", origin, key, text);
    for (i = 0; i < count; i++)
        if (families & (list[i].family == HOST_INET ? SOCKET_IPV4 : SOCKET_IPV6)) {
            *a = list[i];
            return 0;
        }
    return err_set(err, EMU_ENOENT, "%s: %s=%s: the host has no address of the family that ipv4= and ipv6= leave", origin, key, text);
}

static int socket_fd_option(const char *origin, const char *key, const char *text, host_fd *fd, struct err *err)
{
    uint64_t n;
    if (parse_u64(text, 0, INT_MAX, &n))
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not the number of an open descriptor", origin, key, text);
    *fd = (host_fd)n;
    if (host_fd_nonblocking(*fd, true))
        return err_set(err, EMU_EINVAL, "%s: %s=%s: that descriptor is not open", origin, key, text);
    return 0;
}

static int socket_dgram_open(struct socket_link *s, const struct host_addr *local, const char *origin, bool reuse, struct err *err)
{
    host_fd fd;
    int r = host_socket(&fd, local->family, HOST_DGRAM);
    if (r)
        return err_set(err, r, "%s: %s", origin, emu_strerror(r));
    if (local->family == HOST_UNIX && host_path_kind(local->path) == HOST_KIND_SOCKET)
        host_path_remove(local->path);
    if ((r = host_bind(fd, local, reuse))) {
        host_fd_close(fd);
        return err_set(err, r, "%s: cannot use the local address: %s", origin, emu_strerror(r));
    }
    if (local->family == HOST_UNIX)
        s->unlink_path = emu_strdup(s->port.emu, local->path);
    else
        host_set_option(fd, HOST_OPT_RCVBUF, 1 << 20);
    s->fd = fd;
    s->connected = true;
    watch_add(s->port.emu, &s->watch, fd, HOST_READ, socket_dgram_ready, s);
    return 0;
}

/* -netdev socket,connect=: a refusal is an error of the command line. */
static int socket_connect_now(struct socket_link *s, const char *text, const char *origin, struct err *err)
{
    struct host_poll_item item;
    int r;
    host_fd fd;
    if ((r = host_socket(&fd, s->to.family, HOST_STREAM)))
        return err_set(err, r, "%s: %s", origin, emu_strerror(r));
    r = host_connect(fd, &s->to);
    if (r == EMU_EAGAIN) {
        item.fd = fd;
        item.want = HOST_WRITE;
        item.ready = 0;
        r = host_poll(&item, 1, SOCKET_CONNECT_WAIT_NS) > 0 ? host_socket_error(fd) : EMU_ETIMEDOUT;
    }
    if (r) {
        host_fd_close(fd);
        return err_set(err, r, "%s: connect=%s: %s; start the listening side first, or use -netdev stream with reconnect-ms=", origin, text, emu_strerror(r));
    }
    host_set_option(fd, HOST_OPT_NODELAY, 1);
    socket_use(s, fd, true);
    return 0;
}

static bool socket_is_multicast(const struct host_addr *a) { return a->family == HOST_INET ? (a->ip[0] & 0xF0) == 0xE0 : a->family == HOST_INET6 && a->ip[0] == 0xFF; }

static int socket_multicast(struct socket_link *s, const struct host_addr *local, const char *origin, struct err *err)
{
    int r = socket_dgram_open(s, &s->to, origin, true, err);
    if (r)
        return r;
    s->multicast = true;
    if ((r = host_join_multicast(s->fd, &s->to, local)))
        return err_set(err, r, "%s: cannot join the group: %s", origin, emu_strerror(r));
    return 0;
}

EMU_PRIV int netdev_socket_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    const char *fd = options_get(opts, "fd"), *listen = options_get(opts, "listen"), *connect = options_get(opts, "connect"), *mcast = options_get(opts, "mcast"),
               *udp = options_get(opts, "udp"), *local_text = options_get(opts, "localaddr"), *origin = opts->origin;
    const char *text = fd ? fd : listen ? listen : connect ? connect : mcast ? mcast : udp;
    struct host_addr a, local;
    struct socket_link *s;
    char where[300];
    host_fd number = HOST_FD_NONE;
    int r = 0;
    if (!fd + !listen + !connect + !mcast + !udp != 4)
        return err_set(err, EMU_EINVAL, "%s: needs exactly one of fd=, listen=, connect=, mcast= and udp=", origin);
    if (local_text && !mcast && !udp)
        return err_set(err, EMU_EINVAL, "%s: localaddr= goes with mcast= or udp= only", origin);
    if (udp && !local_text)
        return err_set(err, EMU_EINVAL, "%s: udp= needs localaddr=host:port", origin);
    memset(&a, 0, sizeof a);
    memset(&local, 0, sizeof local);
    if (fd ? (r = socket_fd_option(origin, "fd", fd, &number, err))
           : (r = socket_host_port(origin, listen ? "listen" : connect ? "connect" : mcast ? "mcast" : "udp", text, listen != NULL, SOCKET_IPV4 | SOCKET_IPV6, &a, err)))
        return r;
    if (mcast && !socket_is_multicast(&a))
        return err_set(err, EMU_EINVAL, "%s: mcast=%s is not a multicast address (like 230.0.0.1:1234)", origin, mcast);
    if (mcast && local_text && !host_addr_parse(local_text, &local))
        return err_set(err, EMU_EINVAL, "%s: localaddr=%s is not an address", origin, local_text);
    if (udp && (r = socket_host_port(origin, "localaddr", local_text, true, SOCKET_IPV4 | SOCKET_IPV6, &local, err)))
        return r;
    snprintf(where, sizeof where, "%s=%s", fd ? "fd" : listen ? "listen" : connect ? "connect" : mcast ? "mcast" : "udp", text);
    s = socket_new(e, id, "socket", mcast || udp, where, err);
    if (!s)
        return EMU_ENOMEM;
    s->to = a;
    s->has_to = !fd && !listen;
    if (fd)
        socket_use(s, number, true);
    else if (listen)
        r = socket_listen(s, &a, origin, err);
    else if (connect)
        r = socket_connect_now(s, connect, origin, err);
    else if (mcast)
        r = socket_multicast(s, local_text ? &local : NULL, origin, err);
    else
        r = socket_dgram_open(s, &local, origin, true, err);
    return socket_done(e, s, r, out);
}

/* prefix.ipv4= and prefix.ipv6=: one of them on alone turns the other off, one off alone leaves the other, as in QEMU. */
static int socket_families(struct options *opts, const char *prefix, unsigned *families, struct err *err)
{
    char key4[32], key6[32];
    bool want4 = true, want6 = true, given4, given6;
    int r;
    snprintf(key4, sizeof key4, "%s.ipv4", prefix);
    snprintf(key6, sizeof key6, "%s.ipv6", prefix);
    given4 = options_get(opts, key4) != NULL;
    given6 = options_get(opts, key6) != NULL;
    if ((r = options_bool(opts, key4, &want4, err)) || (r = options_bool(opts, key6, &want6, err)))
        return r;
    if (given4 && !given6)
        want6 = !want4;
    if (given6 && !given4)
        want4 = !want6;
    if (!want4 && !want6)
        return err_set(err, EMU_EINVAL, "%s: %s and %s are both off; one must be on", opts->origin, key4, key6);
    *families = (want4 ? SOCKET_IPV4 : 0u) | (want6 ? SOCKET_IPV6 : 0u);
    return 0;
}

/* addr.type= and what belongs to it, below a prefix ("addr", "local", "remote"). usual_port NULL: one must be given. *fd is set for type fd. Returns 1 if
 * there is none. */
static int socket_address(struct options *opts, const char *prefix, const char *usual_port, struct host_addr *a, host_fd *fd, char *where, size_t where_size,
                          struct err *err)
{
    char key[32];
    unsigned families = 0;
    const char *type, *host, *port, *path, *text;
    bool ignored = false;
    int r;
    memset(a, 0, sizeof *a);
    *fd = HOST_FD_NONE;
    snprintf(key, sizeof key, "%s.type", prefix);
    type = options_get(opts, key);
    if (!type)
        return 1;
    if (!strcmp(type, "inet")) {
        snprintf(key, sizeof key, "%s.host", prefix);
        host = options_get(opts, key);
        snprintf(key, sizeof key, "%s.port", prefix);
        port = options_get(opts, key);
        port = port ? port : usual_port;
        if ((r = socket_families(opts, prefix, &families, err)))
            return r;
        if (!host || !port)
            return err_set(err, EMU_EINVAL, "%s: %s.type=inet needs %s.host= and %s.port=", opts->origin, prefix, prefix, prefix);
        snprintf(where, where_size, strchr(host, ':') && *host != '[' ? "[%s]:%s" : "%s:%s", host, port);
        return socket_host_port(opts->origin, prefix, where, true, families, a, err);
    }
    if (!strcmp(type, "unix")) {
        snprintf(key, sizeof key, "%s.path", prefix);
        path = options_get(opts, key);
        snprintf(key, sizeof key, "%s.abstract", prefix);
        if ((r = options_bool(opts, key, &ignored, err)))
            return r;
        if (ignored)
            return err_set(err, EMU_ENOTSUP, "%s: %s: abstract socket names are not supported", opts->origin, key);
        if (!path || strlen(path) >= sizeof a->path)
            return err_set(err, EMU_EINVAL, "%s: %s.type=unix needs %s.path= of at most %d bytes", opts->origin, prefix, prefix, (int)sizeof a->path - 1);
        a->family = HOST_UNIX;
        snprintf(a->path, sizeof a->path, "%s", path);
        snprintf(where, where_size, "unix:%s", path);
        return 0;
    }
    if (!strcmp(type, "fd")) {
        snprintf(key, sizeof key, "%s.str", prefix);
        text = options_get(opts, key);
        if (!text)
            return err_set(err, EMU_EINVAL, "%s: %s.type=fd needs %s=NUMBER", opts->origin, prefix, key);
        snprintf(where, where_size, "fd:%s", text);
        return socket_fd_option(opts->origin, key, text, fd, err);
    }
    return err_set(err, EMU_EINVAL, "%s: %s.type=%s is not inet, unix or fd", opts->origin, prefix, type);
}

EMU_PRIV int netdev_stream_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    struct host_addr a;
    struct socket_link *s;
    host_fd fd;
    char where[300];
    uint64_t ms = 0, seconds = 0;
    bool server = false;
    int r = socket_address(opts, "addr", NULL, &a, &fd, where, sizeof where, err);
    if (r == 1)
        return err_set(err, EMU_EINVAL, "%s: needs addr.type=inet, unix or fd", opts->origin);
    if (r || (r = options_bool(opts, "server", &server, err)) || (r = options_u64(opts, "reconnect-ms", 0, 3600000, &ms, err)) ||
        (r = options_u64(opts, "reconnect", 0, 3600, &seconds, err)))
        return r;
    if ((ms || seconds) && (server || fd != HOST_FD_NONE))
        return err_set(err, EMU_EINVAL, "%s: reconnect-ms is for the side that connects (server=off, no descriptor)", opts->origin);
    s = socket_new(e, id, "stream", false, where, err);
    if (!s)
        return EMU_ENOMEM;
    s->retry_ns = ms ? (int64_t)ms * NS_PER_MS : (int64_t)seconds * NS_PER_SEC;
    s->to = a;
    if (fd != HOST_FD_NONE) {
        socket_use(s, fd, true);
    } else if (server) {
        r = socket_listen(s, &a, opts->origin, err);
    } else {
        s->has_to = true;
        socket_start_connect(s);
    }
    return socket_done(e, s, r, out);
}

EMU_PRIV int netdev_dgram_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    struct host_addr local, remote;
    struct socket_link *s;
    host_fd fd, remote_fd;
    char where[300] = "", from[300] = "";
    int has_local, has_remote, r = 0;
    has_remote = socket_address(opts, "remote", NULL, &remote, &remote_fd, where, sizeof where, err);
    if (has_remote < 0)
        return has_remote;
    /* a group's local address says by which interface; its port is the group's */
    has_local = socket_address(opts, "local", !has_remote && socket_is_multicast(&remote) ? "0" : NULL, &local, &fd, from, sizeof from, err);
    if (has_local < 0)
        return has_local;
    if (remote_fd != HOST_FD_NONE || (has_remote && fd == HOST_FD_NONE))
        return err_set(err, EMU_EINVAL, "%s: needs remote.type=inet or unix, or local.type=fd", opts->origin);
    if (has_local && !(!has_remote && socket_is_multicast(&remote)))
        return err_set(err, EMU_EINVAL, "%s: needs local.type=inet, unix or fd (only a multicast group does without)", opts->origin);
    if (!has_local && !has_remote && fd == HOST_FD_NONE && local.family != remote.family)
        return err_set(err, EMU_EINVAL, "%s: local and remote address are of different kinds", opts->origin);
    s = socket_new(e, id, "dgram", true, *where ? where : from, err);
    if (!s)
        return EMU_ENOMEM;
    s->to = remote;
    s->has_to = !has_remote;
    if (fd != HOST_FD_NONE) {
        s->fd = fd;
        s->connected = true;
        s->multicast = s->has_to && socket_is_multicast(&remote);
        watch_add(e, &s->watch, fd, HOST_READ, socket_dgram_ready, s);
    } else if (socket_is_multicast(&remote)) {
        r = socket_multicast(s, has_local ? NULL : &local, opts->origin, err);
    } else {
        r = socket_dgram_open(s, &local, opts->origin, true, err);
    }
    return socket_done(e, s, r, out);
}
#undef SOCKET_ACCEPT_PAUSE_NS
#undef SOCKET_CONNECT_WAIT_NS
