/* net/dump.c - filter-dump: what passes a port goes into a capture file.
 *
 * Models     The classic pcap format, version 2.4, link type 1 (Ethernet); draft-ietf-opsawg-pcap.
 * Contract   link.c creates one from -object filter-dump,id=,netdev=,file=[,maxlen=]. It looks at frames and passes every one on.
 * Theory     A super-frame is cut into the plain frames that it stands for, in the capture's own copy only, so that readers see what a wire would carry.
 *            Times are the host's wall clock, or virtual time counted from the RTC's base under -icount (repeatable runs, repeatable files).
 * Invariants 1. The file is a whole number of records at any time between two frames, unless the host's disk is full; then
 *               capturing ends with one line to the person, and the machine runs on.
 */
#include "../machine.h"
#include "net.h"

enum { DUMP_FILE_HEADER = 24, DUMP_RECORD_HEADER = 16, DUMP_MAXLEN = 65536, DUMP_BUFFER = 65536 };

struct dump {
    struct net_filter filter;
    struct emu *emu;
    struct host_file *file;
    char *path;
    uint64_t offset; /* file bytes written */
    uint32_t maxlen;
    bool dead;
    struct poll_hook hook;
    size_t buffered;
    uint8_t buffer[DUMP_BUFFER];
};

static void dump_flush(struct dump *d)
{
    int r;
    if (!d->buffered || d->dead)
        return;
    r = host_file_write(d->file, d->offset, d->buffer, d->buffered);
    if (r < 0) {
        d->dead = true;
        emu_log(d->emu, LOG_NOTICE, "filter-dump %s: %s: %s; capturing ends", d->filter.id, d->path, emu_strerror(r));
    }
    d->offset += d->buffered;
    d->buffered = 0;
}

static void dump_poll(void *opaque) { dump_flush(opaque); }

static void dump_put(struct dump *d, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    while (size) {
        size_t n = EMU_MIN(size, DUMP_BUFFER - d->buffered);
        memcpy(d->buffer + d->buffered, p, n);
        d->buffered += n;
        p += n;
        size -= n;
        if (d->buffered == DUMP_BUFFER)
            dump_flush(d);
    }
}

static int dump_record(void *opaque, const struct net_frame *f)
{
    struct dump *d = opaque;
    uint8_t header[DUMP_RECORD_HEADER];
    size_t left = EMU_MIN(f->size, (size_t)d->maxlen);
    int64_t ns = d->emu->config.icount ? d->emu->config.rtc_base_s * NS_PER_SEC + emu_now_ns(d->emu) : host_wall_ns();
    int i;
    if (d->dead)
        return 0;
    st32le(header, (uint32_t)(ns / NS_PER_SEC));
    st32le(header + 4, (uint32_t)(ns % NS_PER_SEC / 1000));
    st32le(header + 8, (uint32_t)left);
    st32le(header + 12, (uint32_t)f->size);
    dump_put(d, header, sizeof header);
    for (i = 0; i < f->count && left; i++) {
        size_t n = EMU_MIN(left, f->pieces[i].size);
        dump_put(d, f->pieces[i].base, n);
        left -= n;
    }
    return 1;
}

static int dump_frame(struct net_filter *filter, enum net_direction direction, const struct net_frame *f)
{
    struct dump *d = (struct dump *)filter;
    (void)direction;
    if (d->dead)
        return 0;
    if (f->gso != NET_GSO_NONE || f->needs_csum)
        net_frame_cut(d->emu, f, dump_record, d);
    else
        dump_record(d, f);
    return 0;
}

static void dump_destroy(struct net_filter *filter)
{
    struct dump *d = (struct dump *)filter;
    struct emu *e = d->emu;
    dump_flush(d);
    poll_hook_remove(e, &d->hook);
    host_file_close(d->file);
    emu_free(e, d->path);
    emu_free(e, d);
}

EMU_PRIV int filter_dump_create(struct emu *e, struct options *opts, struct err *err)
{
    static const uint8_t magic[DUMP_FILE_HEADER - 8] = { 0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0 }; /* little-endian, microseconds, version 2.4 */
    uint8_t rest[8];
    const char *id = options_get(opts, "id"), *netdev = options_get(opts, "netdev"), *path = options_get(opts, "file");
    struct net_port *port;
    struct dump *d;
    uint64_t maxlen = DUMP_MAXLEN;
    int r;
    if (!id || !netdev || !path)
        return err_set(err, EMU_EINVAL, "%s: needs id=, netdev= and file=", opts->origin);
    port = net_port_find(e, netdev);
    if (!port)
        return err_set(err, EMU_ENOENT, "%s: there is no network backend with id %s", opts->origin, netdev);
    if ((r = options_u64(opts, "maxlen", 1, INT32_MAX, &maxlen, err)))
        return r;
    d = emu_alloc(e, sizeof *d);
    if (!d || !(d->path = emu_strdup(e, path))) {
        emu_free(e, d);
        return err_set(err, EMU_ENOMEM, "%s: out of memory", opts->origin);
    }
    r = host_file_open(&d->file, path, HOST_OPEN_WRITE | HOST_OPEN_CREATE | HOST_OPEN_TRUNCATE, err);
    if (r) {
        emu_free(e, d->path);
        emu_free(e, d);
        return err_prefix(err, r, "%s", opts->origin);
    }
    d->emu = e;
    d->maxlen = (uint32_t)maxlen;
    snprintf(d->filter.id, sizeof d->filter.id, "%s", id);
    d->filter.frame = dump_frame;
    d->filter.destroy = dump_destroy;
    st32le(rest, (uint32_t)EMU_MAX(maxlen, (uint64_t)DUMP_MAXLEN)); /* snap length */
    st32le(rest + 4, 1);                                             /* Ethernet */
    dump_put(d, magic, sizeof magic);
    dump_put(d, rest, sizeof rest);
    d->hook.fn = dump_poll;
    d->hook.opaque = d;
    poll_hook_add(e, &d->hook);
    net_filter_attach(port, &d->filter);
    return 0;
}
