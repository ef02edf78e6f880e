/* front/char_stream.c - character back ends that are descriptors: terminal, files, pipes, pseudo terminals, sockets.
 *
 * Models     Telnet: RFC 854, 855 (enough to be a server to a terminal: ECHO, SUPPRESS-GO-AHEAD and BINARY are offered, BREAK understood).
 * Contract   chardev.c creates one for each -chardev or -serial that names such a back end.
 * Theory     Output goes into a ring of CHAR_OUT_BYTES. If the last write is a while ago it is written at once, so that single characters
 *            show promptly; else the descriptor is watched for room, which the next round of the run loop finds: many bytes, one
 *            call. A full ring makes chr_write() take less, and writable() tells when there is room again: a slow reader slows the guest
 *            down and loses nothing. Input is read only as far as the front end has room.
 *            A peer that is gone never stops the machine: output is dropped until the next one comes.
 *            A pseudo terminal nobody looks at fills up; after CHAR_STALL_NS its output is dropped until somebody reads.
 *
 *            server: listening --accept--> open --peer closes--> listening; where accept fails, so does it until the next try
 *            client: (connecting -->) open --peer closes--> closed, or after reconnect= seconds connecting again
 * Invariants 1. The front end is never called from inside chr_write().
 *            2. `out` is watched for HOST_WRITE exactly while the ring holds bytes and the stream is open.
 *            3. Only start-up may block: host names, wait=on, and the last flush (CHAR_LAST_FLUSH_NS at most).
 */
#include "../machine.h"
#include "front.h"
#include "char.h"

#define CHAR_OUT_BYTES 65536u
#define CHAR_IN_BYTES 4096u
#define CHAR_DATAGRAM_BYTES 65536u
#define CHAR_PROMPT_NS (200 * NS_PER_US)
#define CHAR_STALL_NS NS_PER_SEC
#define CHAR_LAST_FLUSH_NS (300 * NS_PER_MS)
#define CHAR_CONNECT_NS (10 * NS_PER_SEC)
#define CHAR_ACCEPT_PAUSE_NS NS_PER_SEC /* after an accept that failed; of the host's, for a monitor listens while the machine stands too */
#define CHAR_ADDRESSES 8

enum char_kind { CHAR_STDIO, CHAR_FILE, CHAR_PIPE, CHAR_PTY, CHAR_SERIAL, CHAR_SOCKET, CHAR_UDP };
enum { TELNET_SE = 240, TELNET_BREAK = 243, TELNET_SB = 250, TELNET_WILL = 251, TELNET_DONT = 254, TELNET_IAC = 255, TELNET_ECHO = 1, TELNET_BINARY = 0, TELNET_SGA = 3 };
enum telnet_state { TELNET_DATA, TELNET_CR, TELNET_COMMAND, TELNET_OPTION, TELNET_SUB, TELNET_SUB_IAC };

struct char_stream {
    struct chr *chr;
    enum char_kind kind;
    host_fd in, out, keep; /* keep: the terminal's side of a pty */
    bool own_in, own_out;  /* to be closed by us */
    struct watch read_watch, write_watch, listen_watch;
    bool reading, writing; /* the watches are registered */

    uint8_t *ring;
    size_t ring_start, ring_count;
    bool front_waits;      /* a short write was answered */
    bool broken;           /* output goes nowhere; input may go on */
    bool said_broken;
    int64_t last_write_ns, stalled_since_ns; /* host clock; stalled: 0 = not */

    /* sockets */
    bool server, telnet, nodelay, connecting;
    host_fd listener;
    struct host_addr addresses[CHAR_ADDRESSES], unix_addr;
    int address_count;
    struct host_addr peer; /* udp: whom to send to */
    int64_t reconnect_ns;
    struct timer timer; /* reconnect; stalled pty */
    struct poll_hook accept_hook; /* registered while accept_again_ns is not 0 */
    int64_t accept_again_ns;      /* host clock */
    bool said_accept;
    enum telnet_state telnet_state;
    uint8_t *datagram;
    size_t datagram_start, datagram_count;
    char where[200]; /* for messages */
};

static void char_stream_readable(void *opaque, unsigned events);
static void char_stream_writable(void *opaque, unsigned events);
static void char_stream_disconnect(struct char_stream *s);

/* ---- watches ---- */

static void char_stream_want_read(struct char_stream *s, bool want)
{
    if (s->reading)
        watch_want(&s->read_watch, want ? HOST_READ : 0);
}

static void char_stream_watch(struct char_stream *s)
{
    struct emu *e = s->chr->emu;
    if (s->in != HOST_FD_NONE && !s->reading) {
        watch_add(e, &s->read_watch, s->in, HOST_READ, char_stream_readable, s);
        s->reading = true;
    }
    if (s->out != HOST_FD_NONE && !s->writing) {
        watch_add(e, &s->write_watch, s->out, 0, char_stream_writable, s);
        s->writing = true;
    }
}

static void char_stream_unwatch(struct char_stream *s, bool read, bool write)
{
    if (read && s->reading) {
        watch_remove(s->chr->emu, &s->read_watch);
        s->reading = false;
    }
    if (write && s->writing) {
        watch_remove(s->chr->emu, &s->write_watch);
        s->writing = false;
    }
}

/* ---- output ---- */

static bool char_stream_can_write(const struct char_stream *s) { return s->out != HOST_FD_NONE && !s->broken && !s->connecting && s->chr->open; }

static int char_stream_put(struct char_stream *s, const uint8_t *p, size_t n)
{
    if (s->kind == CHAR_UDP) {
        int r = host_send_to(s->out, p, EMU_MIN(n, (size_t)1400), s->peer.family ? &s->peer : NULL);
        return r == EMU_ECONNREFUSED || r == EMU_EUNREACH ? (int)EMU_MIN(n, (size_t)1400) : r; /* nobody listens: lost, as datagrams are */
    }
    return host_fd_write(s->out, p, n);
}

/* Writes what the ring holds, as far as it goes. */
static void char_stream_flush(struct char_stream *s)
{
    while (s->ring_count && char_stream_can_write(s)) {
        size_t n = EMU_MIN(s->ring_count, (size_t)CHAR_OUT_BYTES - s->ring_start);
        int r = char_stream_put(s, s->ring + s->ring_start, n);
        if (r == EMU_EAGAIN || r == 0) {
            if (!s->stalled_since_ns)
                s->stalled_since_ns = host_clock_ns();
            break;
        }
        if (r < 0) {
            s->ring_count = 0;
            if (s->kind == CHAR_SOCKET) {
                s->broken = true; /* the reader's side finds out and closes */
                char_stream_want_read(s, true);
                break;
            }
            if (!s->said_broken)
                emu_log(s->chr->emu, LOG_NOTICE, "%s: %s: its output is dropped from here on", s->where, emu_strerror(r));
            s->said_broken = true;
            if (r != EMU_ENOSPC)
                s->broken = true;
            break;
        }
        s->stalled_since_ns = 0;
        s->last_write_ns = host_clock_ns();
        s->ring_start = (s->ring_start + (size_t)r) % CHAR_OUT_BYTES;
        s->ring_count -= (size_t)r;
    }
    if (!char_stream_can_write(s))
        s->ring_count = 0;
    if (s->writing)
        watch_want(&s->write_watch, s->ring_count ? HOST_WRITE : 0);
}

static void char_stream_tell_room(struct char_stream *s)
{
    if (s->front_waits && s->ring_count < CHAR_OUT_BYTES / 2) {
        s->front_waits = false;
        if (s->chr->writable)
            s->chr->writable(s->chr->opaque);
    }
}

static void char_stream_writable(void *opaque, unsigned events)
{
    struct char_stream *s = opaque;
    (void)events;
    char_stream_flush(s);
    char_stream_tell_room(s);
}

static void char_stream_append(struct char_stream *s, uint8_t byte)
{
    s->ring[(s->ring_start + s->ring_count) % CHAR_OUT_BYTES] = byte;
    s->ring_count++;
}

static int char_stream_write(struct chr *c, const void *buf, size_t size)
{
    struct char_stream *s = c->backend;
    const uint8_t *p = buf;
    size_t i;
    if (!char_stream_can_write(s))
        return (int)EMU_MIN(size, (size_t)INT_MAX);
    for (i = 0; i < size && s->ring_count + 2 <= CHAR_OUT_BYTES; i++) {
        char_stream_append(s, p[i]);
        if (s->telnet && p[i] == TELNET_IAC)
            char_stream_append(s, p[i]);
    }
    if (s->kind == CHAR_PTY && s->stalled_since_ns && host_clock_ns() - s->stalled_since_ns > CHAR_STALL_NS && s->ring_count > CHAR_OUT_BYTES / 2) {
        s->ring_count = 0; /* nobody has that terminal open */
        i = size;
    }
    if (s->ring_count >= CHAR_IN_BYTES || host_clock_ns() - s->last_write_ns > CHAR_PROMPT_NS)
        char_stream_flush(s);
    if (s->writing && s->ring_count) {
        watch_want(&s->write_watch, HOST_WRITE);
        emu_poll_now(c->emu);
    }
    if (i < size) {
        s->front_waits = true;
        if (s->kind == CHAR_PTY && !timer_armed(&s->timer))
            timer_arm(&s->timer, emu_now_ns(c->emu) + CHAR_STALL_NS);
    }
    return (int)i;
}

/* ---- input ---- */

/* Takes commands out of what a telnet client sent; returns how many bytes are left. */
static size_t char_telnet_filter(struct char_stream *s, uint8_t *p, size_t n)
{
    size_t i, kept = 0;
    for (i = 0; i < n; i++) {
        uint8_t b = p[i];
        switch (s->telnet_state) {
        case TELNET_CR:
            s->telnet_state = TELNET_DATA;
            if (!b)
                break; /* CR NUL is a bare CR */
            /* fall through */
        case TELNET_DATA:
            if (b == TELNET_IAC) {
                s->telnet_state = TELNET_COMMAND;
            } else {
                p[kept++] = b;
                if (b == '\r')
                    s->telnet_state = TELNET_CR;
            }
            break;
        case TELNET_COMMAND:
            s->telnet_state = TELNET_DATA;
            if (b == TELNET_IAC)
                p[kept++] = b;
            else if (b == TELNET_SB)
                s->telnet_state = TELNET_SUB;
            else if (b >= TELNET_WILL && b <= TELNET_DONT)
                s->telnet_state = TELNET_OPTION;
            else if (b == TELNET_BREAK && s->chr->event)
                s->chr->event(s->chr->opaque, CHR_BREAK);
            break;
        case TELNET_OPTION: s->telnet_state = TELNET_DATA; break;
        case TELNET_SUB:
            if (b == TELNET_IAC)
                s->telnet_state = TELNET_SUB_IAC;
            break;
        case TELNET_SUB_IAC: s->telnet_state = b == TELNET_SE ? TELNET_DATA : TELNET_SUB; break;
        }
    }
    return kept;
}

static void char_udp_deliver(struct char_stream *s)
{
    size_t n;
    while (s->datagram_count && (n = EMU_MIN(char_room(s->chr), s->datagram_count)) > 0) {
        size_t at = s->datagram_start;
        s->datagram_start += n;
        s->datagram_count -= n;
        char_deliver(s->chr, s->datagram + at, n);
    }
}

static void char_stream_input_ended(struct char_stream *s)
{
    if (s->kind == CHAR_SOCKET) {
        char_stream_disconnect(s);
        return;
    }
    char_stream_unwatch(s, true, false); /* a terminal that is gone, the end of a file: output may go on */
    s->chr->deaf = true;
}

static void char_stream_readable(void *opaque, unsigned events)
{
    struct char_stream *s = opaque;
    uint8_t bytes[CHAR_IN_BYTES];
    size_t room = char_room(s->chr);
    int n;
    (void)events;
    if (s->kind == CHAR_UDP) {
        char_udp_deliver(s);
        if (!s->datagram_count) {
            n = host_recv_from(s->in, s->datagram, CHAR_DATAGRAM_BYTES, NULL);
            s->datagram_start = 0;
            s->datagram_count = n > 0 ? (size_t)n : 0;
            char_udp_deliver(s);
        }
        char_stream_want_read(s, char_room(s->chr) > 0);
        return;
    }
    if (!room && !s->broken) {
        char_stream_want_read(s, false);
        return;
    }
    n = host_fd_read(s->in, bytes, s->broken && !room ? sizeof bytes : EMU_MIN(room, sizeof bytes));
    if (n == EMU_EAGAIN)
        return;
    if (n <= 0) {
        if (s->kind == CHAR_PTY && n == EMU_EIO)
            return;
        char_stream_input_ended(s);
        return;
    }
    if (s->telnet)
        n = (int)char_telnet_filter(s, bytes, (size_t)n);
    if (n > 0 && room)
        char_deliver(s->chr, bytes, (size_t)n);
    if (!char_room(s->chr) && !s->broken)
        char_stream_want_read(s, false);
}

static void char_stream_accept_input(struct chr *c)
{
    struct char_stream *s = c->backend;
    if (s->kind == CHAR_UDP)
        char_udp_deliver(s);
    if (s->reading && !s->read_watch.want && char_room(c)) {
        char_stream_want_read(s, true);
        emu_poll_now(c->emu);
    }
}

/* ---- sockets ---- */

static void char_stream_connected(struct char_stream *s, host_fd fd)
{
    static const uint8_t offers[] = { TELNET_IAC, TELNET_WILL, TELNET_ECHO, TELNET_IAC, TELNET_WILL, TELNET_SGA, TELNET_IAC, TELNET_WILL, TELNET_BINARY, TELNET_IAC, 253, TELNET_BINARY };
    s->in = s->out = fd;
    s->own_out = true;
    s->connecting = s->broken = false;
    s->ring_start = s->ring_count = 0;
    s->stalled_since_ns = 0;
    s->telnet_state = TELNET_DATA;
    if (s->nodelay)
        host_set_option(fd, HOST_OPT_NODELAY, 1);
    if (s->listener != HOST_FD_NONE)
        watch_want(&s->listen_watch, 0);
    if (s->telnet && s->server)
        host_fd_write(fd, offers, sizeof offers);
    char_stream_watch(s);
    char_set_open(s->chr, true);
}

static void char_stream_disconnect(struct char_stream *s)
{
    host_fd fd = s->out;
    char_stream_unwatch(s, true, true);
    s->in = s->out = HOST_FD_NONE;
    s->ring_count = 0;
    s->connecting = false;
    if (fd != HOST_FD_NONE)
        host_fd_close(fd);
    if (s->listener != HOST_FD_NONE)
        watch_want(&s->listen_watch, HOST_READ);
    else if (s->reconnect_ns)
        timer_arm(&s->timer, emu_now_ns(s->chr->emu) + s->reconnect_ns);
    char_set_open(s->chr, false);
    char_stream_tell_room(s);
}

static void char_stream_end_pause(struct char_stream *s)
{
    if (s->accept_again_ns)
        poll_hook_remove(s->chr->emu, &s->accept_hook);
    s->accept_again_ns = 0;
}

static void char_stream_on_poll(void *opaque)
{
    struct char_stream *s = opaque;
    if (host_clock_ns() < s->accept_again_ns)
        return;
    char_stream_end_pause(s);
    if (s->out == HOST_FD_NONE)
        watch_want(&s->listen_watch, HOST_READ);
}

static void char_stream_accept(void *opaque, unsigned events)
{
    struct char_stream *s = opaque;
    host_fd fd;
    int r;
    (void)events;
    if (s->out != HOST_FD_NONE)
        return;
    r = host_accept(s->listener, &fd, NULL);
    if (!r) {
        s->said_accept = false;
        char_stream_connected(s, fd);
    } else if (r != EMU_EAGAIN) { /* out of descriptors: the client stays in the backlog, and looking again at once would spin */
        emu_log_once(s->chr->emu, &s->said_accept, LOG_NOTICE, "%s: cannot take the connection: %s; trying again", s->where,
                     r == EMU_ENOMEM ? "the host gives no more sockets (ulimit -n)" : emu_strerror(r));
        watch_want(&s->listen_watch, 0);
        char_stream_end_pause(s);
        s->accept_again_ns = host_clock_ns() + CHAR_ACCEPT_PAUSE_NS;
        s->accept_hook.fn = char_stream_on_poll;
        s->accept_hook.opaque = s;
        poll_hook_add(s->chr->emu, &s->accept_hook);
    }
}

/* A connection under way has succeeded or failed. */
static void char_stream_connect_done(void *opaque, unsigned events)
{
    struct char_stream *s = opaque;
    host_fd fd = s->out;
    int r = host_socket_error(fd);
    (void)events;
    char_stream_unwatch(s, false, true);
    if (r) {
        char_stream_disconnect(s);
        return;
    }
    s->out = HOST_FD_NONE;
    char_stream_connected(s, fd);
}

/* Starts a connection; wait: and sees it through. */
static int char_stream_connect(struct char_stream *s, bool wait)
{
    int i, r = EMU_EUNREACH;
    for (i = 0; i < s->address_count; i++) {
        const struct host_addr *a = &s->addresses[i];
        host_fd fd;
        r = host_socket(&fd, a->family, HOST_STREAM);
        if (r)
            continue;
        r = host_connect(fd, a);
        if (r == EMU_EAGAIN && wait) {
            struct host_poll_item item;
            item.fd = fd;
            item.want = HOST_WRITE;
            r = host_poll(&item, 1, CHAR_CONNECT_NS) > 0 ? host_socket_error(fd) : EMU_ETIMEDOUT;
        }
        if (!r) {
            char_stream_connected(s, fd);
            return 0;
        }
        if (r == EMU_EAGAIN) {
            s->out = fd;
            s->connecting = true;
            watch_add(s->chr->emu, &s->write_watch, fd, HOST_WRITE, char_stream_connect_done, s);
            s->writing = true;
            return 0;
        }
        host_fd_close(fd);
    }
    return r;
}

static void char_stream_timer(void *opaque)
{
    struct char_stream *s = opaque;
    if (s->kind == CHAR_PTY) {
        if (s->stalled_since_ns)
            s->ring_count = 0;
        char_stream_flush(s);
        char_stream_tell_room(s);
    } else if (s->kind == CHAR_SOCKET && s->out == HOST_FD_NONE && char_stream_connect(s, false)) {
        timer_arm(&s->timer, emu_now_ns(s->chr->emu) + s->reconnect_ns);
    }
}

static int char_socket_resolve(struct char_stream *s, struct options *o, struct err *err)
{
    const char *path = options_get(o, "path"), *host = options_get(o, "host"), *port = options_get(o, "port");
    bool want4 = true, want6 = true;
    uint64_t number = 0;
    int i, n, kept = 0, r;
    if (path) {
        if (strlen(path) >= sizeof s->addresses[0].path)
            return err_set(err, EMU_ERANGE, "%s: the socket's name is longer than %u characters", path, (unsigned)sizeof s->addresses[0].path - 1);
        s->addresses[0].family = HOST_UNIX;
        strcpy(s->addresses[0].path, path);
        s->unix_addr = s->addresses[0];
        s->address_count = 1;
        snprintf(s->where, sizeof s->where, "unix:%.180s", path);
        return 0;
    }
    if (!port)
        return err_set(err, EMU_EINVAL, "%s: needs path=, or host= and port=", o->origin);
    if (parse_u64(port, 0, 65535, &number))
        return err_set(err, EMU_EINVAL, "%s: port %s is not a number between 0 and 65535", o->origin, port);
    if (options_get(o, "ipv4") || options_get(o, "ipv6")) {
        want4 = !options_get(o, "ipv6");
        want6 = !options_get(o, "ipv4");
        if ((r = options_bool(o, "ipv4", &want4, err)) || (r = options_bool(o, "ipv6", &want6, err)))
            return r;
    }
    if (!host || !*host)
        host = s->server || s->kind == CHAR_UDP ? (want4 ? "0.0.0.0" : "::") : "localhost";
    if (s->kind == CHAR_UDP && !strcmp(host, "0.0.0.0"))
        host = "localhost";
    snprintf(s->where, sizeof s->where, "%s:%.160s:%u", s->kind == CHAR_UDP ? "udp" : s->telnet ? "telnet" : "tcp", host, (unsigned)number);
    n = host_resolve(host, (uint16_t)number, s->addresses, CHAR_ADDRESSES, err);
    if (n < 0)
        return n;
    for (i = 0; i < n; i++)
        if (s->addresses[i].family == HOST_INET ? want4 : want6)
            s->addresses[kept++] = s->addresses[i];
    s->address_count = kept;
    return kept ? 0 : err_set(err, EMU_EUNREACH, "%s: has no address of the kind asked for", host);
}

static int char_socket_listen(struct char_stream *s, uint64_t last_port, struct err *err)
{
    int i, r = EMU_EUNREACH;
    for (i = 0; i < s->address_count; i++) {
        struct host_addr a = s->addresses[i];
        do {
            host_fd fd;
            r = host_socket(&fd, a.family, HOST_STREAM);
            if (r)
                break;
            if (a.family == HOST_UNIX && host_path_kind(a.path) == HOST_KIND_SOCKET)
                host_path_remove(a.path); /* left behind by one that is gone, or is now taken over */
            r = host_bind(fd, &a, true);
            if (!r)
                r = host_listen(fd, 1);
            if (!r) {
                struct host_addr bound;
                s->listener = fd;
                if (a.family != HOST_UNIX && !host_local_addr(fd, &bound) && bound.port != s->addresses[i].port) {
                    char text[80];
                    host_addr_format(&bound, text, sizeof text);
                    snprintf(s->where, sizeof s->where, "%s:%s", s->telnet ? "telnet" : "tcp", text);
                    emu_log(s->chr->emu, LOG_NOTICE, "%s: listening on %s", s->chr->id, s->where);
                }
                watch_add(s->chr->emu, &s->listen_watch, fd, HOST_READ, char_stream_accept, s);
                return 0;
            }
            host_fd_close(fd);
        } while (r == EMU_EADDRINUSE && last_port && a.port++ < last_port);
    }
    return err_set(err, r, "%s: can't listen there: %s", s->where, emu_strerror(r));
}

static void char_socket_wait(struct char_stream *s)
{
    emu_log(s->chr->emu, LOG_NOTICE, "waiting for connection on %s (server=on; wait=off starts at once)", s->where);
    while (s->out == HOST_FD_NONE) {
        struct host_poll_item item;
        item.fd = s->listener;
        item.want = HOST_READ;
        if (host_poll(&item, 1, -1) < 0)
            return;
        char_stream_accept(s, 0);
    }
}

static int char_socket_create(struct char_stream *s, struct options *o, struct err *err)
{
    static const char *const unsupported[] = { "tls-creds", "tls-authz", "websocket", "abstract", "fd" };
    bool wait = true, wait_given = options_get(o, "wait") != NULL;
    uint64_t seconds = 0, ms = 0, last_port = 0;
    size_t i;
    int r;
    s->nodelay = true;
    for (i = 0; i < EMU_ARRAY_LEN(unsupported); i++) {
        const char *v = options_get(o, unsupported[i]);
        if (v && strcmp(v, "off"))
            return err_set(err, EMU_ENOTSUP, "%s: %s is not supported", o->origin, unsupported[i]);
    }
    if ((r = options_bool(o, "server", &s->server, err)) || (r = options_bool(o, "wait", &wait, err)) || (r = options_bool(o, "telnet", &s->telnet, err)) ||
        (r = options_bool(o, "nodelay", &s->nodelay, err)) || (r = options_bool(o, "delay", &s->nodelay, err)) || (r = options_u64(o, "reconnect", 0, 86400, &seconds, err)) ||
        (r = options_u64(o, "reconnect-ms", 0, 86400000, &ms, err)) || (r = options_u64(o, "to", 1, 65535, &last_port, err)))
        return r;
    s->nodelay = true; /* characters are small and wanted now */
    s->reconnect_ns = (int64_t)seconds * NS_PER_SEC + (int64_t)ms * NS_PER_MS;
    if (!s->server && wait_given && wait)
        return err_set(err, EMU_EINVAL, "%s: wait=on needs server=on", o->origin);
    if (s->server && s->reconnect_ns)
        return err_set(err, EMU_EINVAL, "%s: reconnect= is for clients (server=off)", o->origin);
    if ((r = char_socket_resolve(s, o, err)))
        return r;
    if (s->server) {
        r = char_socket_listen(s, last_port, err);
        if (!r && wait)
            char_socket_wait(s);
        return r;
    }
    r = char_stream_connect(s, !s->reconnect_ns);
    if (r && s->reconnect_ns) {
        timer_arm(&s->timer, emu_now_ns(s->chr->emu) + s->reconnect_ns);
        return 0;
    }
    return r ? err_set(err, r, "%s: can't connect: %s%s", s->where, emu_strerror(r), r == EMU_ECONNREFUSED || r == EMU_ENOENT ? "; is somebody listening there? (server=on listens itself)" : "") : 0;
}

static int char_udp_create(struct char_stream *s, struct options *o, struct err *err)
{
    const char *local = options_get(o, "localaddr");
    uint64_t local_port = 0;
    struct host_addr a;
    host_fd fd;
    int r;
    if ((r = options_u64(o, "localport", 0, 65535, &local_port, err)) || (r = char_socket_resolve(s, o, err)))
        return r;
    s->datagram = emu_alloc(s->chr->emu, CHAR_DATAGRAM_BYTES);
    if (!s->datagram)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", s->where);
    r = host_socket(&fd, s->addresses[0].family, HOST_DGRAM);
    if (r)
        return err_set(err, r, "%s: %s", s->where, emu_strerror(r));
    s->in = s->out = fd;
    s->own_out = true;
    if (local || local_port) {
        if (!local || !*local)
            local = s->addresses[0].family == HOST_INET6 ? "::" : "0.0.0.0";
        r = host_resolve(local, (uint16_t)local_port, &a, 1, err);
        if (r < 0)
            return r;
        if ((r = host_bind(fd, &a, true)))
            return err_set(err, r, "%s: can't use local port %u: %s", s->where, (unsigned)local_port, emu_strerror(r));
    }
    s->peer = s->addresses[0];
    if (s->peer.port && !host_connect(fd, &s->peer))
        memset(&s->peer, 0, sizeof s->peer); /* the kernel knows it now, and filters */
    char_stream_watch(s);
    s->chr->open = true;
    return 0;
}

/* ---- terminal, files, pipes ---- */

static int char_stdio_create(struct char_stream *s, struct options *o, struct err *err)
{
    struct chr *other;
    bool signals = true;
    int r = options_bool(o, "signal", &signals, err);
    if (r)
        return r;
    for (other = s->chr->emu->chars; other; other = other->next)
        if (other != s->chr && char_is_stdio(other))
            return err_set(err, EMU_EBUSY, "%s: the terminal is taken by %s; -serial mon:stdio shares it between serial port and monitor", o->origin, other->id);
    s->in = host_stdin();
    s->out = host_reopen_nonblocking(host_stdout(), true);
    s->own_out = s->out != HOST_FD_NONE;
    if (!s->own_out)
        s->out = host_stdout();
    if (host_is_terminal(s->in))
        host_terminal_raw(true, signals);
    snprintf(s->where, sizeof s->where, "stdio");
    char_stream_watch(s);
    s->chr->open = true;
    return 0;
}

static int char_file_create(struct char_stream *s, struct options *o, struct err *err)
{
    const char *path = options_get(o, "path"), *input = options_get(o, "input-path");
    bool append = false;
    int r = options_bool(o, "append", &append, err);
    if (r)
        return r;
    if (!path || !*path)
        return err_set(err, EMU_EINVAL, "%s: needs path=", o->origin);
    snprintf(s->where, sizeof s->where, "file:%.180s", path);
    if ((r = host_open_stream(&s->out, path, true, append, err)))
        return r;
    s->own_out = true;
    if (input) {
        if ((r = host_open_stream(&s->in, input, false, false, err)))
            return r;
        s->own_in = true;
    }
    s->chr->deaf = !input;
    char_stream_watch(s);
    s->chr->open = true;
    return 0;
}

/* PATH.in and PATH.out where they exist, else PATH both ways. */
static int char_pipe_create(struct char_stream *s, struct options *o, struct err *err)
{
    const char *path = options_get(o, "path");
    char name[1024];
    int r;
    if (!path || !*path || strlen(path) > sizeof name - 8)
        return err_set(err, EMU_EINVAL, "%s: needs path=", o->origin);
    snprintf(s->where, sizeof s->where, "pipe:%.180s", path);
    snprintf(name, sizeof name, "%s.in", path);
    if (host_path_kind(name) != HOST_KIND_NONE) {
        r = host_open_stream(&s->in, name, false, false, err);
        s->own_in = !r;
        if (!r) {
            snprintf(name, sizeof name, "%s.out", path);
            r = host_open_stream(&s->out, name, true, true, err);
            s->own_out = !r;
        }
    } else if (host_path_kind(path) == HOST_KIND_NONE) {
        r = err_set(err, EMU_ENOENT, "%s: there is neither %s nor %s.in and %s.out; make them with mkfifo", s->where, path, path, path);
    } else {
        r = host_open_stream(&s->out, path, true, true, err);
        s->own_out = !r;
        s->in = s->out;
    }
    if (r)
        return r;
    char_stream_watch(s);
    s->chr->open = true;
    return 0;
}

static int char_serial_create(struct char_stream *s, struct options *o, struct err *err)
{
    const char *path = options_get(o, "path");
    int r;
    if (!path || !*path)
        return err_set(err, EMU_EINVAL, "%s: needs path=", o->origin);
    if (host_path_kind(path) == HOST_KIND_NONE)
        return err_set(err, EMU_ENOENT, "%s: no such device", path);
    snprintf(s->where, sizeof s->where, "%.190s", path);
    r = host_open_stream(&s->out, path, true, true, err);
    if (r)
        return r;
    s->in = s->out;
    s->own_out = true;
    char_stream_watch(s);
    s->chr->open = true;
    return 0;
}

static int char_pty_create(struct char_stream *s, struct options *o, struct err *err)
{
    char name[128];
    int r = host_open_pty(&s->out, &s->keep, name, sizeof name, err);
    (void)o;
    if (r)
        return r;
    s->in = s->out;
    s->own_out = true;
    snprintf(s->where, sizeof s->where, "pty:%.180s", name);
    emu_log(s->chr->emu, LOG_NOTICE, "char device redirected to %s (label %s)", name, s->chr->id);
    char_stream_watch(s);
    s->chr->open = true;
    return 0;
}

/* ---- life ---- */

static void char_stream_close(struct chr *c)
{
    struct char_stream *s = c->backend;
    int64_t end = host_clock_ns() + CHAR_LAST_FLUSH_NS;
    if (!s)
        return;
    while (s->ring && s->ring_count && char_stream_can_write(s)) {
        struct host_poll_item item;
        int64_t left;
        char_stream_flush(s);
        left = end - host_clock_ns();
        if (!s->ring_count || left <= 0)
            break;
        item.fd = s->out;
        item.want = HOST_WRITE;
        host_poll(&item, 1, left);
    }
    timer_cancel(&s->timer);
    char_stream_unwatch(s, true, true);
    if (s->listener != HOST_FD_NONE) {
        char_stream_end_pause(s);
        watch_remove(c->emu, &s->listen_watch);
        host_fd_close(s->listener);
        if (s->unix_addr.family)
            host_path_remove(s->unix_addr.path);
    }
    if (s->own_in && s->in != s->out)
        host_fd_close(s->in);
    if (s->own_out)
        host_fd_close(s->out);
    host_fd_close(s->keep);
    if (s->kind == CHAR_STDIO)
        host_terminal_raw(false, true);
    emu_free(c->emu, s->ring);
    emu_free(c->emu, s->datagram);
    emu_free(c->emu, s);
    c->backend = NULL;
}

static const struct chr_ops char_stream_ops = { char_stream_write, char_stream_accept_input, char_stream_close };

EMU_PRIV bool char_is_stdio(const struct chr *c) { return c->ops == &char_stream_ops && c->backend && ((const struct char_stream *)c->backend)->kind == CHAR_STDIO; }

EMU_PRIV int char_stream_create(struct chr *c, const char *backend, struct options *o, struct err *err)
{
    static const struct {
        const char *name;
        enum char_kind kind;
        int (*create)(struct char_stream *s, struct options *o, struct err *err);
    } kinds[] = {
        { "stdio", CHAR_STDIO, char_stdio_create }, { "file", CHAR_FILE, char_file_create }, { "pipe", CHAR_PIPE, char_pipe_create }, { "pty", CHAR_PTY, char_pty_create },
        { "serial", CHAR_SERIAL, char_serial_create }, { "socket", CHAR_SOCKET, char_socket_create }, { "udp", CHAR_UDP, char_udp_create },
    };
    size_t i;
    int r;
    for (i = 0; i < EMU_ARRAY_LEN(kinds); i++)
        if (!strcmp(kinds[i].name, backend)) {
            struct char_stream *s = emu_alloc(c->emu, sizeof *s);
            if (!s || !(s->ring = emu_alloc(c->emu, CHAR_OUT_BYTES))) {
                emu_free(c->emu, s);
                return err_set(err, EMU_ENOMEM, "%s: out of memory", o->origin);
            }
            s->chr = c;
            s->kind = kinds[i].kind;
            s->in = s->out = s->keep = s->listener = HOST_FD_NONE;
            timer_init(&s->timer, c->emu, char_stream_timer, s);
            c->ops = &char_stream_ops;
            c->backend = s;
            r = kinds[i].create(s, o, err);
            if (!r)
                snprintf(c->where, sizeof c->where, "%s%s", s->where, s->server ? ",server=on" : "");
            return r; /* chardev.c closes it on failure */
        }
    return EMU_ENOENT;
}
#undef CHAR_OUT_BYTES
#undef CHAR_IN_BYTES
#undef CHAR_DATAGRAM_BYTES
#undef CHAR_PROMPT_NS
#undef CHAR_STALL_NS
#undef CHAR_LAST_FLUSH_NS
#undef CHAR_CONNECT_NS
#undef CHAR_ACCEPT_PAUSE_NS
#undef CHAR_ADDRESSES
