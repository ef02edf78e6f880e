/* front/chardev.c - character devices: names, -serial and -chardev syntax, sharing one line between several users.
 *
 * Contract   The board, monitor, debugger stub and net/ open lines by chr_open() or find them by id; each then sets its callbacks and in_use.
 *            Descriptors are char_stream.c's; null, ring buffers and the embedding program's lines are here.
 * Theory     A shared line (mux=on, mon:...) is a multiplexer: it sits on the real line as its front end and has up to CHAR_PORTS ports,
 *            each a struct chr of its own. What any port writes goes out; what comes in goes to the port that has the focus. The escape
 *            character (-echr, Ctrl-A) starts a command to the multiplexer itself. Each port has a small buffer, so that commands get through
 *            to a machine whose guest does not read.
 *            A port is told CHR_OPENED whenever the focus comes to it, which makes a monitor show its prompt.
 *            chardev:ID of a line that is not shared is a multiplexer with one port and no escape character.
 * Invariants 1. Bytes for a port stay in order, and none is lost while its buffer has room; a full buffer stops reading.
 *            2. A closed machine's lines call nobody: chr_close_all() drops the callbacks first.
 */
#include "../machine.h"
#include "front.h"
#include "char.h"

enum { CHAR_PORTS = 4, CHAR_PORT_BYTES = 4096, CHAR_RINGBUF_BYTES = 65536 };

/* ---- what back ends use ---- */

EMU_PRIV size_t char_room(struct chr *c) { return c->receive && c->can_receive ? c->can_receive(c->opaque) : 0; }

EMU_PRIV void char_deliver(struct chr *c, const uint8_t *bytes, size_t size)
{
    if (c->receive)
        c->receive(c->opaque, bytes, size);
}

EMU_PRIV void char_set_open(struct chr *c, bool open)
{
    if (c->open == open)
        return;
    c->open = open;
    if (c->event)
        c->event(c->opaque, open ? CHR_OPENED : CHR_CLOSED);
}

/* ---- the multiplexer ---- */

struct char_port {
    struct char_mux *mux;
    struct chr *chr;
    uint8_t bytes[CHAR_PORT_BYTES];
    size_t start, count;
    bool greeted; /* had the focus once */
};
struct char_mux {
    struct emu *emu;
    struct chr *line;
    struct char_port *ports[CHAR_PORTS];
    unsigned count, focus;
    bool plain;   /* no escape character */
    bool escaped; /* the escape character came last */
    bool timestamps, line_start;
    int64_t start_ns;
};

static int char_mux_echr(const struct char_mux *m) { return m->emu->front ? front_of(m->emu)->echr : 1; }

static void char_port_drain(struct char_port *p)
{
    size_t n;
    while (p->count && (n = EMU_MIN(char_room(p->chr), p->count)) > 0) {
        size_t at = p->start;
        n = EMU_MIN(n, (size_t)CHAR_PORT_BYTES - at);
        p->start = (at + n) % CHAR_PORT_BYTES;
        p->count -= n;
        char_deliver(p->chr, p->bytes + at, n);
    }
}

static void char_mux_say(struct char_mux *m, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    chr_write(m->line, text, strlen(text));
}

static void char_mux_help(struct char_mux *m)
{
    int echr = char_mux_echr(m);
    char name[24];
    if (echr > 0 && echr < 27)
        snprintf(name, sizeof name, "Ctrl-%c", echr - 1 + 'A');
    else
        snprintf(name, sizeof name, "escape (0x%02x)", (unsigned)echr);
    char_mux_say(m, "\r\n%s h  this help\r\n%s x  end emu\r\n%s s  write disk data to the host's disks now\r\n", name, name, name);
    char_mux_say(m, "%s t  times before lines, on and off\r\n%s b  send a break\r\n%s c  to the monitor and back\r\n%s %s  the character itself\r\n", name, name, name, name, name);
}

static void char_mux_set_focus(struct char_mux *m, unsigned focus)
{
    struct char_port *p = m->ports[focus];
    m->focus = focus;
    p->greeted = true;
    p->chr->open = m->line->open;
    if (p->chr->event && p->chr->open)
        p->chr->event(p->chr->opaque, CHR_OPENED);
    char_port_drain(p);
}

static void char_mux_flush_disks(struct char_mux *m)
{
    struct blk *b;
    for (b = m->emu->drives; b; b = b->next)
        if (b->image && !b->read_only && blk_flush_sync(b))
            char_mux_say(m, "\r\n%s: could not be written\r\n", b->id);
    char_mux_say(m, "\r\ndisk data written\r\n");
}

static void char_mux_command(struct char_mux *m, uint8_t ch)
{
    struct char_port *p = m->ports[m->focus];
    switch (ch) {
    case 'h':
    case '?': char_mux_help(m); break;
    case 'x':
        char_mux_say(m, "\r\nemu: terminated\r\n");
        emu_exit_with(m->emu, 0);
        break;
    case 's': char_mux_flush_disks(m); break;
    case 't':
        m->timestamps = !m->timestamps;
        m->line_start = false;
        m->start_ns = host_clock_ns();
        break;
    case 'b':
        if (p->chr->event)
            p->chr->event(p->chr->opaque, CHR_BREAK);
        break;
    case 'c':
        if (m->count > 1)
            char_mux_set_focus(m, (m->focus + 1) % m->count);
        else
            char_mux_say(m, "\r\nemu: there is no monitor on this line\r\n");
        break;
    default: break;
    }
}

static size_t char_mux_can_receive(void *opaque)
{
    struct char_mux *m = opaque;
    return CHAR_PORT_BYTES - m->ports[m->focus]->count;
}

static void char_mux_receive(void *opaque, const uint8_t *bytes, size_t size)
{
    struct char_mux *m = opaque;
    size_t i;
    for (i = 0; i < size; i++) {
        struct char_port *p = m->ports[m->focus];
        uint8_t ch = bytes[i];
        if (!m->plain) {
            if (m->escaped && ch != char_mux_echr(m)) {
                m->escaped = false;
                char_port_drain(p);
                char_mux_command(m, ch);
                continue;
            }
            if (ch == char_mux_echr(m) && !m->escaped) {
                m->escaped = true;
                continue;
            }
            m->escaped = false;
        }
        if (p->count < CHAR_PORT_BYTES)
            p->bytes[(p->start + p->count++) % CHAR_PORT_BYTES] = ch;
    }
    char_port_drain(m->ports[m->focus]);
}

static void char_mux_event(void *opaque, enum chr_event event)
{
    struct char_mux *m = opaque;
    unsigned i;
    if (event == CHR_BREAK || event == CHR_OPENED) {
        struct chr *c = m->ports[m->focus]->chr;
        if (event == CHR_OPENED)
            char_mux_set_focus(m, m->focus);
        else if (c->event)
            c->event(c->opaque, event);
        return;
    }
    m->escaped = false;
    for (i = 0; i < m->count; i++)
        char_set_open(m->ports[i]->chr, false);
}

static void char_mux_writable(void *opaque)
{
    struct char_mux *m = opaque;
    unsigned i;
    for (i = 0; i < m->count; i++)
        if (m->ports[i]->chr->writable)
            m->ports[i]->chr->writable(m->ports[i]->chr->opaque);
}

/* With times: each line begins with the seconds since they were switched on. */
static int char_mux_write_timed(struct char_mux *m, const uint8_t *p, size_t size)
{
    size_t i;
    for (i = 0; i < size; i++) {
        if (m->line_start) {
            int64_t ms = (host_clock_ns() - m->start_ns) / NS_PER_MS;
            char_mux_say(m, "[%02d:%02d:%02d.%03d] ", (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60), (int)(ms % 1000));
            m->line_start = false;
        }
        if (chr_write(m->line, p + i, 1) != 1)
            break;
        m->line_start = p[i] == '\n';
    }
    return (int)i;
}

static int char_port_write(struct chr *c, const void *buf, size_t size)
{
    struct char_port *p = c->backend;
    return p->mux->timestamps ? char_mux_write_timed(p->mux, buf, size) : chr_write(p->mux->line, buf, size);
}

static void char_port_accept_input(struct chr *c)
{
    struct char_port *p = c->backend;
    char_port_drain(p);
    if (p == p->mux->ports[p->mux->focus])
        chr_accept_input(p->mux->line);
}

static void char_port_close(struct chr *c) { emu_free(c->emu, c->backend); }

static const struct chr_ops char_port_ops = { char_port_write, char_port_accept_input, char_port_close };

/* ---- null, ring buffer, the embedding program ---- */

static int char_null_write(struct chr *c, const void *buf, size_t size)
{
    (void)c, (void)buf;
    return (int)EMU_MIN(size, (size_t)INT_MAX);
}
static void char_null_accept_input(struct chr *c) { (void)c; }
static void char_null_close(struct chr *c) { emu_free(c->emu, c->backend); }
static const struct chr_ops char_null_ops = { char_null_write, char_null_accept_input, char_null_close };

struct char_ringbuf {
    size_t size, start, count;
    uint8_t *bytes;
};
static int char_ringbuf_write(struct chr *c, const void *buf, size_t size)
{
    struct char_ringbuf *b = c->backend;
    const uint8_t *p = buf;
    size_t i;
    for (i = 0; i < size; i++) {
        b->bytes[(b->start + b->count) % b->size] = p[i];
        if (b->count < b->size)
            b->count++;
        else
            b->start = (b->start + 1) % b->size;
    }
    return (int)EMU_MIN(size, (size_t)INT_MAX);
}
static void char_ringbuf_close(struct chr *c)
{
    struct char_ringbuf *b = c->backend;
    if (b)
        emu_free(c->emu, b->bytes);
    emu_free(c->emu, b);
}
static const struct chr_ops char_ringbuf_ops = { char_ringbuf_write, char_null_accept_input, char_ringbuf_close };

EMU_PRIV size_t chr_ringbuf_read(struct chr *c, void *buf, size_t size)
{
    struct char_ringbuf *b = c->ops == &char_ringbuf_ops ? c->backend : NULL;
    uint8_t *p = buf;
    size_t n = 0;
    while (b && b->count && n < size) {
        p[n++] = b->bytes[b->start];
        b->start = (b->start + 1) % b->size;
        b->count--;
    }
    return n;
}

static int char_ringbuf_create(struct chr *c, struct options *o, struct err *err)
{
    struct char_ringbuf *b;
    uint64_t size = CHAR_RINGBUF_BYTES;
    int r = options_size(o, "size", &size, err);
    if (r)
        return r;
    if (!size || (size & (size - 1)) || size > 64 * MIB)
        return err_set(err, EMU_EINVAL, "%s: size= must be a power of two up to 64M", o->origin);
    b = emu_alloc(c->emu, sizeof *b);
    c->backend = b;
    c->ops = &char_ringbuf_ops;
    if (!b || !(b->bytes = emu_alloc(c->emu, (size_t)size)))
        return err_set(err, EMU_ENOMEM, "%s: out of memory", o->origin);
    b->size = (size_t)size;
    return 0;
}

static int char_embed_write(struct chr *c, const void *buf, size_t size)
{
    struct provided *p = c->backend;
    p->output(p->opaque, buf, size);
    return (int)EMU_MIN(size, (size_t)INT_MAX);
}
static void char_embed_close(struct chr *c) { ((struct provided *)c->backend)->chr = NULL; }
static const struct chr_ops char_embed_ops = { char_embed_write, char_null_accept_input, char_embed_close };

static int char_embed_create(struct chr *c, const char *name, struct err *err)
{
    struct provided *p = c->emu->front ? front_provided(c->emu, PROVIDED_SERIAL, name) : NULL;
    if (!p)
        return err_set(err, EMU_ENOENT, "embed:%s: the program provides no serial line of that name", name);
    if (p->chr)
        return err_set(err, EMU_EBUSY, "embed:%s: is used already", name);
    c->ops = &char_embed_ops;
    c->backend = p;
    p->chr = c;
    return 0;
}

/* ---- names and life ---- */

static struct chr *char_lookup(struct emu *e, const char *id)
{
    struct chr *c;
    for (c = e->chars; c; c = c->next)
        if (c->id && !strcmp(c->id, id))
            return c;
    return NULL;
}

static struct chr *char_new(struct emu *e, const char *id, struct err *err)
{
    struct chr *c, **end;
    if (char_lookup(e, id)) {
        err_set(err, EMU_EEXIST, "there is a -chardev with id=%s already", id);
        return NULL;
    }
    c = emu_alloc(e, sizeof *c);
    if (!c || !(c->id = emu_strdup(e, id))) {
        emu_free(e, c);
        err_set(err, EMU_ENOMEM, "out of memory for character device %s", id);
        return NULL;
    }
    c->emu = e;
    c->ops = &char_null_ops;
    c->log_fd = HOST_FD_NONE;
    for (end = &e->chars; *end; end = &(*end)->next) {
    }
    *end = c;
    return c;
}

static void char_free(struct chr *c)
{
    struct chr **p;
    c->can_receive = NULL;
    c->receive = NULL;
    c->event = NULL;
    c->writable = NULL;
    if (c->ops->close)
        c->ops->close(c);
    host_fd_close(c->log_fd);
    for (p = &c->emu->chars; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    emu_free(c->emu, c->mux);
    emu_free(c->emu, c->id);
    emu_free(c->emu, c);
}

static struct char_mux *char_mux_create(struct chr *line, bool plain, struct err *err)
{
    struct char_mux *m = emu_alloc(line->emu, sizeof *m);
    if (!m) {
        err_set(err, EMU_ENOMEM, "%s: out of memory", line->id);
        return NULL;
    }
    m->emu = line->emu;
    m->line = line;
    m->plain = plain;
    line->mux = m;
    line->in_use = true;
    return m;
}

/* A further port; the first one has the focus. */
static struct chr *char_mux_attach(struct char_mux *m, const char *id, struct err *err)
{
    struct char_port *p;
    struct chr *c;
    if (m->count == CHAR_PORTS) {
        err_set(err, EMU_EBUSY, "%s: %d users share it already", m->line->id, CHAR_PORTS);
        return NULL;
    }
    c = char_new(m->emu, id, err);
    if (!c)
        return NULL;
    p = emu_alloc(m->emu, sizeof *p);
    if (!p) {
        char_free(c);
        err_set(err, EMU_ENOMEM, "%s: out of memory", id);
        return NULL;
    }
    p->mux = m;
    p->chr = c;
    c->ops = &char_port_ops;
    c->backend = p;
    snprintf(c->where, sizeof c->where, "port %u of %.150s", m->count, m->line->id);
    m->ports[m->count++] = p;
    if (m->count == 1) {
        p->greeted = true;
        c->open = m->line->open;
        m->line->can_receive = char_mux_can_receive;
        m->line->receive = char_mux_receive;
        m->line->event = char_mux_event;
        m->line->writable = char_mux_writable;
        m->line->opaque = m;
        chr_accept_input(m->line);
    }
    return c;
}

EMU_PRIV struct chr *chr_find(struct emu *e, const char *id)
{
    struct chr *c = char_lookup(e, id);
    char port[80];
    if (!c || !c->mux)
        return c;
    snprintf(port, sizeof port, "%.60s-port%u", id, ((struct char_mux *)c->mux)->count);
    return char_mux_attach(c->mux, port, NULL);
}

EMU_PRIV int chr_write(struct chr *c, const void *buf, size_t size)
{
    int n;
    if (!c)
        return (int)EMU_MIN(size, (size_t)INT_MAX);
    n = c->ops->write(c, buf, size);
    if (c->log_fd != HOST_FD_NONE && n > 0 && host_fd_write(c->log_fd, buf, (size_t)n) < 0) {
        emu_log(c->emu, LOG_NOTICE, "%s: its log file can't be written any more", c->id);
        host_fd_close(c->log_fd);
        c->log_fd = HOST_FD_NONE;
    }
    return n;
}

EMU_PRIV void chr_accept_input(struct chr *c)
{
    if (c)
        c->ops->accept_input(c);
}

EMU_PRIV void chr_close(struct chr *c)
{
    if (c->ops == &char_port_ops) { /* a port of a shared line stays, without a user */
        c->can_receive = NULL;
        c->receive = NULL;
        c->event = NULL;
        c->writable = NULL;
        c->in_use = false;
    } else {
        char_free(c);
    }
}

EMU_PRIV bool chr_is_deaf(const struct chr *c)
{
    if (c->ops == &char_port_ops)
        c = ((const struct char_port *)c->backend)->mux->line;
    return c->deaf || c->ops == &char_null_ops;
}

EMU_PRIV void chr_close_all(struct emu *e)
{
    struct chr *c;
    for (c = e->chars; c; c = c->next) { /* invariant 2 */
        c->can_receive = NULL;
        c->receive = NULL;
        c->event = NULL;
        c->writable = NULL;
    }
    while (e->chars)
        char_free(e->chars);
}

EMU_PRIV void chr_print_info(struct emu *e, struct buf *out)
{
    struct chr *c;
    for (c = e->chars; c; c = c->next)
        buf_printf(out, "%s: filename=%s%s%s\n", c->id, c->open ? "" : "disconnected:", c->where, c->in_use ? "" : " (not used)");
}

/* ---- -chardev ---- */

static int char_common_options(struct chr *c, struct options *o, struct err *err)
{
    const char *log = options_get(o, "logfile");
    bool append = false, mux = false;
    int r;
    options_get(o, "id"), options_get(o, "backend");
    if ((r = options_bool(o, "logappend", &append, err)) || (r = options_bool(o, "mux", &mux, err)))
        return r;
    if (log && (r = host_open_stream(&c->log_fd, log, true, append, err)))
        return err_prefix(err, r, "logfile");
    if (mux && !char_mux_create(c, false, err))
        return EMU_ENOMEM;
    return options_check_used(o, err);
}

static int char_backend(struct chr *c, const char *backend, struct options *o, struct err *err)
{
    static const char *const none[] = { "msmouse", "wctablet", "braille", "testdev", "parport", "parallel", "spicevmc", "spiceport", "spice", "dbus", "qemu-vdagent", "console", "memory" };
    size_t i;
    int r;
    if (!strcmp(backend, "tty"))
        backend = "serial";
    r = char_stream_create(c, backend, o, err);
    if (r != EMU_ENOENT || c->ops != &char_null_ops)
        return r;
    snprintf(c->where, sizeof c->where, "%.100s", backend);
    if (!strcmp(backend, "null")) {
        c->open = true;
        return 0;
    }
    if (!strcmp(backend, "vc")) {
        options_get(o, "cols"), options_get(o, "rows"), options_get(o, "width"), options_get(o, "height");
        emu_log(c->emu, LOG_NOTICE, "%s: there are no virtual consoles (vc); its output is dropped", c->id);
        c->open = true;
        return 0;
    }
    if (!strcmp(backend, "ringbuf")) {
        r = char_ringbuf_create(c, o, err);
        c->open = !r;
        return r;
    }
    for (i = 0; i < EMU_ARRAY_LEN(none); i++)
        if (!strcmp(none[i], backend) && strcmp(backend, "memory"))
            return err_set(err, EMU_ENOTSUP, "%s: character back end %s is not supported", o->origin, backend);
    return err_set(err, EMU_EINVAL, "%s: unknown character back end \"%s\"; there are null, stdio, file, pipe, pty, serial, socket, udp, ringbuf", o->origin, backend);
}

EMU_PRIV struct chr *chr_create(struct emu *e, const char *id, struct options *o, struct err *err)
{
    const char *backend = options_get(o, "backend");
    struct chr *c;
    int r;
    if (!backend) {
        err_set(err, EMU_EINVAL, "%s: names no back end (null, stdio, file, pipe, pty, serial, socket, udp, ringbuf)", o->origin);
        return NULL;
    }
    c = char_new(e, id, err);
    if (!c)
        return NULL;
    r = char_backend(c, backend, o, err);
    if (!r)
        r = char_common_options(c, o, err);
    if (r) {
        char_free(c);
        return NULL;
    }
    return c;
}

/* ---- the short syntax of -serial, -parallel, -monitor ---- */

/* "HOST:PORT" up to a comma, into host= and port=; returns what follows. IPv6 addresses stand in brackets. */
static const char *char_take_address(struct options *o, const char *p, const char *host_key, const char *port_key, const char *stop)
{
    char text[256], *colon;
    size_t n = strcspn(p, stop);
    n = EMU_MIN(n, sizeof text - 1);
    memcpy(text, p, n);
    text[n] = 0;
    colon = strrchr(text, ':');
    if (!colon || (strchr(text, ']') && colon < strchr(text, ']')))
        return NULL;
    *colon = 0;
    if (*text && options_set(o, host_key, text))
        return NULL;
    return options_set(o, port_key, colon + 1) ? NULL : p + n;
}

/* Appends "key=value,..." to o. */
static int char_add_options(struct options *o, struct emu *e, const char *origin, const char *text, struct err *err)
{
    struct options more;
    size_t i;
    int r = options_parse(&more, e, origin, text, NULL, err);
    for (i = 0; !r && i < more.count; i++)
        r = options_set(o, more.items[i].key, more.items[i].value);
    options_free(&more);
    return r;
}

/* Turns the short form into options. mon: was taken off before. */
static int char_parse_short(struct options *o, struct emu *e, const char *spec, struct err *err)
{
    const char *rest = NULL;
    int r = options_parse(o, e, "character device", "", NULL, err);
    if (r)
        return r;
    emu_free(e, o->origin);
    o->origin = emu_strdup(e, spec);
    if (!o->origin)
        return err_set(err, EMU_ENOMEM, "out of memory");
    if (!strncmp(spec, "tcp:", 4) || !strncmp(spec, "telnet:", 7)) {
        r = options_set(o, "backend", "socket");
        if (!r && spec[1] == 'e')
            r = options_set(o, "telnet", "on");
        rest = char_take_address(o, strchr(spec, ':') + 1, "host", "port", ",");
        if (!rest)
            return err_set(err, EMU_EINVAL, "%s: is not %s:[HOST]:PORT[,server=on][,wait=off]", spec, spec[1] == 'e' ? "telnet" : "tcp");
    } else if (!strncmp(spec, "unix:", 5)) {
        char path[512];
        size_t n = strcspn(spec + 5, ",");
        r = options_set(o, "backend", "socket");
        snprintf(path, sizeof path, "%.*s", (int)EMU_MIN(n, sizeof path - 1), spec + 5);
        if (!r)
            r = options_set(o, "path", path);
        rest = spec + 5 + n;
    } else if (!strncmp(spec, "udp:", 4)) {
        r = options_set(o, "backend", "udp");
        rest = char_take_address(o, spec + 4, "host", "port", "@,");
        if (rest && *rest == '@')
            rest = char_take_address(o, rest + 1, "localaddr", "localport", ",");
        if (!rest)
            return err_set(err, EMU_EINVAL, "%s: is not udp:[HOST]:PORT[@[LOCAL]:PORT]", spec);
    } else if (!strncmp(spec, "file:", 5) || !strncmp(spec, "pipe:", 5)) {
        r = options_set(o, "backend", spec[0] == 'f' ? "file" : "pipe");
        if (!r)
            r = options_set(o, "path", spec + 5);
    } else if (!strncmp(spec, "/dev/", 5)) {
        r = options_set(o, "backend", strcmp(spec, "/dev/null") ? "serial" : "null");
        if (!r && strcmp(spec, "/dev/null"))
            r = options_set(o, "path", spec);
    } else if (!strncmp(spec, "vc:", 3)) {
        r = options_set(o, "backend", "vc");
    } else {
        char *origin = o->origin;
        o->origin = NULL;
        options_free(o);
        r = options_parse(o, e, "", spec, "backend", err);
        emu_free(e, o->origin);
        o->origin = origin;
        return r;
    }
    if (!r && rest && *rest == ',')
        r = char_add_options(o, e, spec, rest + 1, err);
    return r;
}

/* chardev:ID: a port of a shared line, or the line itself under another name. */
static struct chr *char_open_named(struct emu *e, const char *id, const char *name, struct err *err)
{
    struct chr *line = char_lookup(e, name);
    if (!line) {
        err_set(err, EMU_ENOENT, "there is no -chardev with id=%s", name);
        return NULL;
    }
    if (!line->mux) {
        if (line->in_use) {
            err_set(err, EMU_EBUSY, "chardev %s is used already; mux=on in its -chardev shares it", name);
            return NULL;
        }
        if (!char_mux_create(line, true, err))
            return NULL;
    } else if (((struct char_mux *)line->mux)->plain) {
        err_set(err, EMU_EBUSY, "chardev %s is used already; mux=on in its -chardev shares it", name);
        return NULL;
    }
    return char_mux_attach(line->mux, id, err);
}

static struct chr *char_open_line(struct emu *e, const char *id, const char *spec, bool monitor, struct err *err)
{
    struct options o;
    struct chr *c;
    if (!strncmp(spec, "embed:", 6)) {
        c = char_new(e, id, err);
        if (c && char_embed_create(c, spec + 6, err)) {
            char_free(c);
            return NULL;
        }
        if (c) {
            c->open = true;
            snprintf(c->where, sizeof c->where, "%.150s", spec);
        }
        return c;
    }
    if (char_parse_short(&o, e, spec, err)) {
        options_free(&o);
        return NULL;
    }
    if (monitor && !options_get(&o, "signal") && options_get(&o, "backend") && !strcmp(options_get(&o, "backend"), "stdio"))
        options_set(&o, "signal", "off"); /* Ctrl-C is the guest's */
    c = chr_create(e, id, &o, err);
    options_free(&o);
    return c;
}

EMU_PRIV struct chr *chr_open(struct emu *e, const char *id, const char *spec, struct err *err)
{
    char name[80];
    struct chr *line, *port, *monitor;
    if (!strncmp(spec, "chardev:", 8))
        return char_open_named(e, id, spec + 8, err);
    if (strncmp(spec, "mon:", 4))
        return char_open_line(e, id, spec, false, err);
    snprintf(name, sizeof name, "%.60s-line", id);
    line = char_open_line(e, name, spec + 4, true, err);
    if (!line || (!line->mux && !char_mux_create(line, false, err)))
        return NULL;
    port = char_mux_attach(line->mux, id, err);
    snprintf(name, sizeof name, "%.60s-monitor", id);
    monitor = port ? char_mux_attach(line->mux, name, err) : NULL;
    if (!monitor || monitor_create(e, monitor, err))
        return NULL;
    return port;
}
