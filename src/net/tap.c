/* net/tap.c - a tap interface of the host: -netdev tap and -netdev bridge.
 *
 * Models     Linux's tun/tap device with the virtio network header in front of each frame (vnet_hdr): Documentation/networking/tuntap.rst,
 *            Virtual I/O Device 1.0 §5.1.6.
 * Contract   link.c creates one. The host side is host_tap_open(); a host without tap says so in one line.
 * Theory     With vnet_hdr super-frames and open checksums cross to the host's kernel and back as they are: nothing is cut or summed here.
 *            Without it they are cut. Frames that the kernel has no room for are held by the sender until the descriptor is writable.
 *            The interface is set up by script= (called with its name) or was made by an administrator before; downscript= runs at the end.
 * Invariants 1. While a frame from the host waits for room in our machine the descriptor is not read.
 * Missing    queues= above 1, vhost. br= without a helper needs the rights to change interfaces, as the helper itself has.
 */
#include "../machine.h"
#include "net.h"

enum {
    TAP_BUFFER = 70000, TAP_VNET = 10, TAP_ROUND = 64 /* frames read in a row */,
    TAP_ARGUMENTS = 8, TAP_STATUS = 16, /* of a script; bytes at the end of its output that hold its status */
    TAP_VNET_NEEDS_CSUM = 1, TAP_VNET_DATA_VALID = 2, TAP_GSO_NONE = 0, TAP_GSO_TCP4 = 1, TAP_GSO_UDP = 3, TAP_GSO_TCP6 = 4, TAP_GSO_ECN = 0x80
};
#define TAP_SCRIPT "/etc/qemu-ifup"
#define TAP_DOWNSCRIPT "/etc/qemu-ifdown"
#define TAP_HELPER "/usr/lib/qemu/qemu-bridge-helper"
#define TAP_SCRIPT_LIMIT_NS (30 * NS_PER_SEC)

struct tap {
    struct net_port port;
    host_fd fd;
    struct watch watch;
    char ifname[32];
    char *downscript;
    bool vnet, full; /* full: the host had no room */
    bool gone;       /* the interface was deleted: its descriptor is always "ready", with an error */
    size_t waiting;  /* bytes of buffer that our machine had no room for */
    uint8_t buffer[TAP_BUFFER];
};

static void tap_wants(struct tap *t) { watch_want(&t->watch, t->gone ? 0 : (t->waiting ? 0 : HOST_READ) | (t->full ? HOST_WRITE : 0)); }

/* The header is in the host's byte order. */
static uint16_t tap_get16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static void tap_put16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }

/* ---- toward the host ---- */

/* 1 gone (or lost), 0 no room */
static int tap_write(struct tap *t, const struct net_frame *f, const uint8_t *header)
{
    struct host_iov pieces[NET_FRAME_MAX_PIECES + 1];
    int n = 0, i, r;
    if (f->count > NET_FRAME_MAX_PIECES)
        return 1;
    if (t->vnet) {
        pieces[0].base = (void *)(uintptr_t)header;
        pieces[n++].size = TAP_VNET;
    }
    for (i = 0; i < f->count; i++)
        pieces[n++] = f->pieces[i];
    r = host_writev(t->fd, pieces, n);
    if (r == EMU_EAGAIN) {
        t->full = true;
        tap_wants(t);
        return 0;
    }
    if (r < 0)
        t->port.drops_in++; /* the interface is down: as an unplugged cable */
    return 1;
}

static int tap_plain(void *opaque, const struct net_frame *f)
{
    static const uint8_t none[TAP_VNET] = { 0 };
    return tap_write(opaque, f, none);
}

/* Only a full descriptor makes the sender wait: what can't be cut is gone. */
static int tap_cut(struct tap *t, const struct net_frame *f) { return net_frame_cut(t->port.emu, f, tap_plain, t) > 0 || !t->full; }

static bool tap_can_receive(struct net_port *p) { return !((struct tap *)p->opaque)->full; }

static int tap_receive(struct net_port *p, const struct net_frame *f)
{
    struct tap *t = p->opaque;
    uint8_t header[TAP_VNET] = { 0 };
    if (t->full)
        return 0;
    emu_poll_now(p->emu);
    if (f->gso == NET_GSO_NONE && !f->needs_csum)
        return tap_plain(t, f);
    if (!t->vnet || f->gso == NET_GSO_UDP)
        return tap_cut(t, f);
    if (f->needs_csum) {
        header[0] = TAP_VNET_NEEDS_CSUM;
        tap_put16(header + 6, f->csum_start);
        tap_put16(header + 8, f->csum_offset);
    }
    if (f->gso != NET_GSO_NONE) {
        header[1] = f->gso == NET_GSO_TCP4 ? TAP_GSO_TCP4 : TAP_GSO_TCP6;
        tap_put16(header + 2, f->header_bytes);
        tap_put16(header + 4, f->gso_size);
        if (!f->needs_csum) /* the kernel takes none without the other */
            return tap_cut(t, f);
    }
    return tap_write(t, f, header);
}

/* ---- from the host ---- */

/* What the virtio header says about the frame; false: it contradicts the frame. */
static bool tap_describe(const uint8_t *header, const uint8_t *frame, struct net_frame *f)
{
    unsigned gso = header[1] & ~(unsigned)TAP_GSO_ECN;
    f->csum_valid = (header[0] & TAP_VNET_DATA_VALID) != 0;
    if (header[0] & TAP_VNET_NEEDS_CSUM) {
        f->needs_csum = true;
        f->csum_valid = true;
        f->csum_start = tap_get16(header + 6);
        f->csum_offset = tap_get16(header + 8);
        if ((size_t)f->csum_start + f->csum_offset + 2 > f->size)
            return false;
    }
    if (gso == TAP_GSO_NONE)
        return true;
    if ((gso != TAP_GSO_TCP4 && gso != TAP_GSO_TCP6) || !f->needs_csum || f->csum_offset != 16 || (size_t)f->csum_start + 20 > f->size)
        return false;
    f->gso_size = tap_get16(header + 4);
    f->header_bytes = (uint16_t)(f->csum_start + (frame[f->csum_start + 12] >> 4) * 4u); /* the header's own hint may be longer */
    if (!f->gso_size || f->header_bytes < f->csum_start + 20 || f->header_bytes > f->size)
        return false;
    if (f->size - f->header_bytes > f->gso_size)
        f->gso = gso == TAP_GSO_TCP4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
    return true;
}

/* The frame in the buffer to our machine. false: no room. */
static bool tap_give(struct tap *t, size_t size)
{
    size_t skip = t->vnet ? TAP_VNET : 0;
    struct host_iov piece;
    struct net_frame f;
    if (size < skip + 14)
        return true;
    memset(&f, 0, sizeof f);
    piece.base = t->buffer + skip;
    piece.size = size - skip;
    f.pieces = &piece;
    f.count = 1;
    f.size = size - skip;
    if (t->vnet && !tap_describe(t->buffer, t->buffer + skip, &f)) {
        t->port.drops_in++;
        return true;
    }
    return net_send(&t->port, &f) != 0;
}

static void tap_read(struct tap *t)
{
    unsigned i;
    if (t->waiting) {
        if (!tap_give(t, t->waiting))
            return;
        t->waiting = 0;
    }
    for (i = 0; i < TAP_ROUND; i++) {
        int n = host_fd_read(t->fd, t->buffer, sizeof t->buffer);
        if (n == EMU_EAGAIN)
            break;
        if (n <= 0) {
            emu_log(t->port.emu, LOG_NOTICE, "%s: the host's interface %s is gone (%s); this link is dead", t->port.name, t->ifname, n ? emu_strerror(n) : "end of file");
            t->gone = true;
            t->full = false;
            break;
        }
        if (!tap_give(t, (size_t)n)) {
            t->waiting = (size_t)n;
            break;
        }
    }
    tap_wants(t);
}

static void tap_ready(void *opaque, unsigned events)
{
    struct tap *t = opaque;
    if (events & HOST_WRITE) {
        t->full = false;
        tap_wants(t);
        net_kick_peer(&t->port);
    }
    if (events & HOST_READ)
        tap_read(t);
}

static void tap_kick(struct net_port *p)
{
    struct tap *t = p->opaque;
    if (t->waiting)
        tap_read(t);
}

/* ---- life ---- */

/* Runs a program to its end; what it prints goes to the message. The shell in between tells its status and joins its errors to what it prints. */
static int tap_run(struct emu *e, const char *const *argv, struct err *err)
{
    static const char shell[] = "\"$@\" 2>&1; printf '\nstatus %d' $?";
    const char *line[TAP_ARGUMENTS + 5] = { "/bin/sh", "-c", shell, "sh" };
    int64_t limit = host_clock_ns() + TAP_SCRIPT_LIMIT_NS;
    char said[320] = "", tail[TAP_STATUS + 1] = "", *status;
    size_t used = 0, kept = 0, i;
    host_fd fd;
    long pid;
    int r;
    for (i = 0; argv[i] && i < TAP_ARGUMENTS; i++)
        line[4 + i] = argv[i];
    line[4 + i] = NULL;
    r = host_spawn(&fd, &pid, line, err);
    if (r)
        return err_prefix(err, r, "cannot run it");
    for (;;) {
        struct host_poll_item item;
        char text[256];
        int n = host_fd_read(fd, text, sizeof text);
        if (n == 0 || (n < 0 && n != EMU_EAGAIN))
            break;
        if (n > 0) {
            size_t room = EMU_MIN((size_t)n, sizeof said - 1 - used), last = EMU_MIN((size_t)n, (size_t)TAP_STATUS), old = EMU_MIN(kept, TAP_STATUS - last);
            memcpy(said + used, text, room);
            used += room;
            memmove(tail, tail + kept - old, old);
            memcpy(tail + old, text + (size_t)n - last, last);
            kept = old + last;
            continue;
        }
        if (host_clock_ns() > limit) {
            r = err_set(err, EMU_ETIMEDOUT, "%s: still runs after 30 seconds", argv[0]);
            break;
        }
        item.fd = fd;
        item.want = HOST_READ;
        item.ready = 0;
        host_poll(&item, 1, 100 * NS_PER_MS);
    }
    host_fd_close(fd);
    host_reap(pid);
    said[used] = tail[kept] = 0;
    status = strstr(tail, "\nstatus ");
    if (strstr(said, "\nstatus "))
        *strstr(said, "\nstatus ") = 0;
    for (used = strlen(said); used && said[used - 1] == '\n'; used--)
        said[used - 1] = 0;
    for (i = 0; i < used; i++)
        if (said[i] == '\n')
            said[i] = ' ';
    if (!r && (!status || strcmp(status, "\nstatus 0")))
        return err_set(err, EMU_EIO, "%s failed (%s)%s%s", argv[0], status ? status + 1 : "killed", used ? ": " : "", said);
    if (used)
        emu_log(e, LOG_NOTICE, "%s: %s", argv[0], said);
    return r;
}

static void tap_destroy(struct net_port *p)
{
    struct tap *t = p->opaque;
    struct emu *e = p->emu;
    net_port_unregister(e, p);
    if (t->downscript) {
        const char *argv[3];
        struct err err;
        argv[0] = t->downscript;
        argv[1] = t->ifname;
        argv[2] = NULL;
        if (tap_run(e, argv, &err))
            emu_log(e, LOG_NOTICE, "%s: %s", t->downscript, err.text);
    }
    if (t->fd != HOST_FD_NONE) {
        watch_remove(e, &t->watch);
        host_fd_close(t->fd);
    }
    emu_free(e, t->downscript);
    emu_free(e, t);
}

static void tap_info(struct net_port *p, struct buf *out)
{
    struct tap *t = p->opaque;
    buf_printf(out, "ifname=%s,vnet_hdr=%s", *t->ifname ? t->ifname : "(descriptor)", t->vnet ? "on" : "off");
}

static int tap_new(struct emu *e, const char *id, const char *model, host_fd fd, const char *ifname, bool vnet, struct net_port **out, struct err *err)
{
    struct tap *t = emu_alloc(e, sizeof *t);
    if (!t) {
        host_fd_close(fd);
        return err_set(err, EMU_ENOMEM, "out of memory");
    }
    t->fd = fd;
    t->vnet = vnet && !host_tap_offload(fd, true, true, true);
    if (vnet && !t->vnet)
        t->vnet = true; /* headers come all the same; the kernel then only sends finished frames */
    snprintf(t->ifname, sizeof t->ifname, "%s", ifname);
    snprintf(t->port.name, sizeof t->port.name, "%s", id);
    snprintf(t->port.model, sizeof t->port.model, "%s", model);
    t->port.opaque = t;
    t->port.takes_gso = t->port.takes_csum = true; /* cut here where the kernel can't */
    t->port.max_frame = 65550;
    t->port.can_receive = tap_can_receive;
    t->port.receive = tap_receive;
    t->port.kick = tap_kick;
    t->port.destroy = tap_destroy;
    t->port.info = tap_info;
    host_fd_nonblocking(fd, true);
    net_port_register(e, &t->port);
    watch_add(e, &t->watch, fd, HOST_READ, tap_ready, t);
    *out = &t->port;
    return 0;
}

static int tap_open(const char *origin, const char *given, char *ifname, size_t size, bool *vnet, host_fd *fd, struct err *err)
{
    int r;
    snprintf(ifname, size, "%s", given ? given : "tap%d");
    r = host_tap_open(fd, ifname, size, vnet, err);
    if (r == EMU_EACCES)
        return err_set(err, r, "%s: no permission to open %s; as root: ip tuntap add dev %s mode tap user $USER", origin, given ? given : "a tap interface",
                       given ? given : "tap0");
    if (r == EMU_EBUSY)
        return err_set(err, r, "%s: %s is in use by another program", origin, given ? given : "the tap interface");
    return r ? err_prefix(err, r, "%s", origin) : 0;
}

/* Puts the interface into a bridge: by the helper, which hands us a descriptor, or by ourselves. */
static int tap_bridge(struct emu *e, const char *id, const char *model, const char *origin, const char *bridge, const char *helper, struct net_port **out, struct err *err)
{
    char ifname[32];
    const char *argv[8];
    bool vnet = true;
    host_fd fd;
    int r;
    if (helper || host_path_kind(TAP_HELPER) == HOST_KIND_FILE) {
        r = host_spawn_for_fd(helper ? helper : TAP_HELPER, bridge, &fd, err);
        if (!r)
            return tap_new(e, id, model, fd, bridge, true, out, err);
        if (helper)
            return err_prefix(err, r, "%s: helper=%s", origin, helper);
    }
    if ((r = tap_open(origin, NULL, ifname, sizeof ifname, &vnet, &fd, err)))
        return r;
    if ((r = tap_new(e, id, model, fd, ifname, vnet, out, err)))
        return r;
    argv[0] = "ip", argv[1] = "link", argv[2] = "set", argv[3] = ifname, argv[4] = "master", argv[5] = bridge, argv[6] = "up", argv[7] = NULL;
    r = tap_run(e, argv, err);
    return r ? err_prefix(err, r, "%s: br=%s", origin, bridge) : 0;
}

EMU_PRIV int netdev_tap_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    const char *ifname = options_get(opts, "ifname"), *script = options_get(opts, "script"), *down = options_get(opts, "downscript"), *fd_text = options_get(opts, "fd"),
               *bridge = options_get(opts, "br"), *helper = options_get(opts, "helper"), *vhost = options_get(opts, "vhost");
    uint64_t queues = 1, number = 0;
    bool vnet = true, vhost_on = false;
    char name[32];
    host_fd fd;
    int r;
    if ((r = options_bool(opts, "vnet_hdr", &vnet, err)) || (r = options_u64(opts, "queues", 1, UINT32_MAX, &queues, err)) ||
        (vhost && (r = options_bool(opts, "vhost", &vhost_on, err))) || (r = options_check_used(opts, err))) /* before anything of the host's is touched */
        return r;
    if (queues != 1)
        return err_set(err, EMU_ENOTSUP, "%s: queues=%" PRIu64 " is not supported; leave it out, or queues=1", opts->origin, queues);
    if (vhost_on)
        return err_set(err, EMU_ENOTSUP, "%s: vhost=on is not supported; leave it out", opts->origin);
    if (fd_text && (ifname || script || down || bridge || helper))
        return err_set(err, EMU_EINVAL, "%s: fd= goes without ifname=, script=, downscript=, br= and helper=", opts->origin);
    if (fd_text) {
        if (parse_u64(fd_text, 0, INT_MAX, &number) || host_fd_nonblocking((host_fd)number, true))
            return err_set(err, EMU_EINVAL, "%s: fd=%s is not the number of an open descriptor", opts->origin, fd_text);
        if (!options_get(opts, "vnet_hdr")) /* as it was opened: only a descriptor with headers can be told about offloads */
            vnet = !host_tap_offload((host_fd)number, false, false, false) && host_tap_has_vnet((host_fd)number);
        return tap_new(e, id, "tap", (host_fd)number, "", vnet, out, err);
    }
    if (bridge || helper)
        return tap_bridge(e, id, "tap", opts->origin, bridge ? bridge : "br0", helper, out, err);
    if ((r = tap_open(opts->origin, ifname, name, sizeof name, &vnet, &fd, err)) || (r = tap_new(e, id, "tap", fd, name, vnet, out, err)))
        return r;
    if (!script && host_path_kind(TAP_SCRIPT) == HOST_KIND_FILE)
        script = TAP_SCRIPT;
    if (!down && host_path_kind(TAP_DOWNSCRIPT) == HOST_KIND_FILE)
        down = TAP_DOWNSCRIPT;
    if (script && *script && strcmp(script, "no")) {
        const char *argv[3];
        argv[0] = script;
        argv[1] = name;
        argv[2] = NULL;
        if ((r = tap_run(e, argv, err)))
            return err_prefix(err, r, "%s: script=%s", opts->origin, script);
    }
    if (down && *down && strcmp(down, "no")) {
        struct tap *t = (*out)->opaque;
        t->downscript = emu_strdup(e, down);
        if (!t->downscript)
            return err_set(err, EMU_ENOMEM, "%s: out of memory", opts->origin);
    }
    return 0;
}

EMU_PRIV int netdev_bridge_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    const char *bridge = options_get(opts, "br"), *helper = options_get(opts, "helper");
    int r = options_check_used(opts, err);
    return r ? r : tap_bridge(e, id, "bridge", opts->origin, bridge ? bridge : "br0", helper, out, err);
}
#undef TAP_SCRIPT
#undef TAP_DOWNSCRIPT
#undef TAP_HELPER
#undef TAP_SCRIPT_LIMIT_NS
