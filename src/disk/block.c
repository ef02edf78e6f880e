/* disk/block.c - drives: what a disk controller sees, and what -drive says.
 *
 * Contract   Devices call blk_submit() and friends of machine.h; the board creates drives and opens them with their options; the monitor
 *            changes and ejects. Below it are images (image.c). It knows no device. media_changed() with the same image as before means
 *            that somebody wanted the medium out and the tray is locked.
 * Theory     A request is carried out on the host the moment it is submitted, and its completion is put on the event queue at a
 *            fixed virtual delay that depends on its kind and size only, so that -icount runs repeat on any host. Since the host's work is
 *            done in order of submission, a flush covers every write submitted before it, and overlapping requests need no care.
 *            An error may stop the machine (werror=, rerror=): then the request stays under way, and its timer, which stands still with
 *            the virtual clock, tries again once the machine goes on. Without werror= a write that finds the host's disk full does so, as
 *            under QEMU, if there is a monitor to type cont in (BLK_ON_AUTO); a machine that nobody could resume shows the guest an error instead.
 *            A host file whose flush failed once fails each later one (host_file_flush), so that no second try hides lost data: each cont then stops again.
 * Invariants 1. done() is called from the event queue, once, and never after blk_cancel().
 *            2. size_bytes is the image's size, 0 without medium.
 *            3. A write to a read-only drive fails with EMU_EROFS whatever the image would allow.
 * Missing    copy-on-read, throttling, O_DIRECT (cache=none and directsync use the host's cache but flush as asked).
 */
#include "../machine.h"
#include "image.h"

#define BLK_LATENCY_NS (20 * NS_PER_US)
#define BLK_FLUSH_NS (50 * NS_PER_US)
#define BLK_BYTES_PER_NS 2 /* 2 GB/s */
#define BLK_BOUNCE_BYTES ((size_t)1 << 20)
#define BLK_RETRY_NS NS_PER_MS

enum { BLK_ON_REPORT, BLK_ON_IGNORE, BLK_ON_STOP, BLK_ON_ENOSPC, BLK_ON_AUTO }; /* ORDER of werror='s words */
enum { BLK_ZEROES_OFF, BLK_ZEROES_ON, BLK_ZEROES_UNMAP };

/* ---- requests ---- */

static uint64_t blk_iov_bytes(const struct blk_request *r)
{
    uint64_t n = 0;
    int i;
    for (i = 0; i < r->iov_count; i++)
        n += r->iov[i].size;
    return n;
}

static int blk_write_piece(struct blk *b, uint64_t offset, const void *buf, size_t size)
{
    if (b->detect_zeroes && size >= 4096 && image_all_zero(buf, size))
        return image_write_zeroes(b->image, offset, size, b->detect_zeroes == BLK_ZEROES_UNMAP);
    return image_write(b->image, offset, buf, size);
}

/* Reads or writes the request's pieces; many small ones go through one buffer so that the image sees one request. */
static int blk_transfer(struct blk *b, const struct blk_request *r)
{
    bool write = r->op == BLK_WRITE;
    uint64_t offset = r->offset, left = r->size;
    int i, result = 0;
    if (blk_iov_bytes(r) < r->size)
        return EMU_EINVAL;
    if (r->iov_count > 1 && r->size <= BLK_BOUNCE_BYTES) {
        size_t at = 0;
        if (!b->bounce)
            b->bounce = emu_alloc(b->emu, BLK_BOUNCE_BYTES);
        if (b->bounce) {
            if (!write && (result = image_read(b->image, offset, b->bounce, (size_t)left)))
                return result;
            for (i = 0; i < r->iov_count && left; i++) {
                size_t n = (size_t)EMU_MIN((uint64_t)r->iov[i].size, left);
                if (write)
                    memcpy(b->bounce + at, r->iov[i].base, n);
                else
                    memcpy(r->iov[i].base, b->bounce + at, n);
                at += n;
                left -= n;
            }
            return write ? blk_write_piece(b, offset, b->bounce, at) : 0;
        }
    }
    for (i = 0; i < r->iov_count && left && !result; i++) {
        size_t n = (size_t)EMU_MIN((uint64_t)r->iov[i].size, left);
        result = write ? blk_write_piece(b, offset, r->iov[i].base, n) : image_read(b->image, offset, r->iov[i].base, n);
        offset += n;
        left -= n;
    }
    return result;
}

static bool blk_range_ok(const struct blk *b, uint64_t offset, uint64_t size) { return offset <= b->size_bytes && size <= b->size_bytes - offset; }

static int blk_perform(struct blk *b, const struct blk_request *r)
{
    int result;
    if (!b->image)
        return EMU_ENOENT;
    if (r->op == BLK_FLUSH) {
        b->stat_flushes++;
        return image_flush(b->image);
    }
    if (!blk_range_ok(b, r->offset, r->size))
        return EMU_ERANGE;
    if (r->op != BLK_READ && b->read_only)
        return EMU_EROFS;
    switch (r->op) {
    case BLK_READ:
        b->stat_reads++;
        b->stat_read_bytes += r->size;
        return blk_transfer(b, r);
    case BLK_WRITE:
        b->stat_writes++;
        b->stat_write_bytes += r->size;
        result = blk_transfer(b, r);
        break;
    case BLK_DISCARD:
        result = b->image_flags & IMAGE_UNMAP ? image_discard(b->image, r->offset, r->size) : 0;
        break;
    case BLK_WRITE_ZEROES:
        result = image_write_zeroes(b->image, r->offset, r->size, (b->image_flags & IMAGE_UNMAP) != 0);
        break;
    default:
        return EMU_EINVAL;
    }
    if (!result && b->write_through)
        result = image_flush(b->image);
    return result;
}

/* A failed request as werror= and rerror= want it: what the guest is told, or *stop. stop NULL: a service of the firmware, which can't wait. */
static int blk_judge(struct blk *b, const struct blk_request *r, int result, bool *stop)
{
    unsigned policy = r->op == BLK_READ ? b->on_read_error : b->on_write_error;
    const char *name = b->file ? b->file : b->id, *what = r->op == BLK_READ ? "a read" : r->op == BLK_FLUSH ? "a flush" : "a write";
    bool resumable = b->emu->can_be_resumed && b->emu->can_be_resumed(b->emu);
    bool own_mistake = result == EMU_EROFS || result == EMU_ENOENT || result == EMU_ERANGE;
    bool stops = stop && !own_mistake && (policy == BLK_ON_STOP || (result == EMU_ENOSPC && (policy == BLK_ON_ENOSPC || (policy == BLK_ON_AUTO && resumable))));
    if (stop)
        *stop = stops;
    if (stops)
        emu_log(b->emu, LOG_NOTICE, "%s: %s failed: %s; the machine is stopped; mend it and type cont in the monitor", name, what,
                emu_strerror(result));
    else if (result == EMU_ENOSPC)
        emu_log_once(b->emu, &b->said_full, LOG_NOTICE, "%s: the host's disk is full; the guest sees write errors (werror=stop stops the machine instead)", name);
    else if (!own_mistake)
        emu_log_once(b->emu, &b->said_error, LOG_NOTICE, "%s: %s at byte %" PRIu64 " failed: %s; the guest sees an I/O error", name, what,
                     r->offset, emu_strerror(result));
    return policy == BLK_ON_IGNORE ? 0 : result;
}

static void blk_unlink(struct blk *b, struct blk_request *r)
{
    struct blk_request **p;
    for (p = &b->requests; *p; p = &(*p)->next)
        if (*p == r) {
            *p = r->next;
            b->in_flight--;
            return;
        }
}

static int64_t blk_delay_ns(const struct blk_request *r)
{
    if (r->op == BLK_FLUSH)
        return BLK_FLUSH_NS;
    return BLK_LATENCY_NS + (r->op == BLK_READ || r->op == BLK_WRITE ? (int64_t)EMU_MIN(r->size / BLK_BYTES_PER_NS, (uint64_t)NS_PER_SEC) : 0);
}

static void blk_complete(void *opaque)
{
    struct blk_request *r = opaque;
    struct blk *b = r->blk;
    bool stop = false;
    if (r->again) {
        r->again = false;
        r->result = blk_perform(b, r);
    }
    if (r->result)
        r->result = blk_judge(b, r, r->result, &stop);
    if (stop) {
        r->again = true;
        emu_request(b->emu, REQ_STOP);
        timer_arm(&r->timer, emu_now_ns(b->emu) + BLK_RETRY_NS);
        return;
    }
    blk_unlink(b, r);
    if (r->done)
        r->done(r->opaque, r->result);
}

EMU_PRIV void blk_submit(struct blk *b, struct blk_request *r)
{
    r->blk = b;
    r->again = false;
    r->next = b->requests;
    b->requests = r;
    b->in_flight++;
    timer_init(&r->timer, b->emu, blk_complete, r);
    r->result = blk_perform(b, r);
    timer_arm(&r->timer, emu_now_ns(b->emu) + blk_delay_ns(r));
}

EMU_PRIV void blk_cancel(struct blk *b, struct blk_request *r)
{
    timer_cancel(&r->timer);
    blk_unlink(b, r);
}

static int blk_sync(struct blk *b, uint8_t op, uint64_t offset, void *buf, size_t size)
{
    struct blk_request r;
    struct host_iov piece;
    int result;
    memset(&r, 0, sizeof r);
    piece.base = buf;
    piece.size = size;
    r.op = op;
    r.offset = offset;
    r.size = size;
    r.iov = &piece;
    r.iov_count = 1;
    result = blk_perform(b, &r);
    return result ? blk_judge(b, &r, result, NULL) : 0;
}

EMU_PRIV int blk_read_sync(struct blk *b, uint64_t offset, void *buf, size_t size) { return blk_sync(b, BLK_READ, offset, buf, size); }
EMU_PRIV int blk_write_sync(struct blk *b, uint64_t offset, const void *buf, size_t size)
{
    return blk_sync(b, BLK_WRITE, offset, (void *)(uintptr_t)buf, size);
}
EMU_PRIV int blk_flush_sync(struct blk *b) { return blk_sync(b, BLK_FLUSH, 0, NULL, 0); }

/* ---- drives and media ---- */

EMU_PRIV struct blk *blk_find(struct emu *e, const char *id)
{
    struct blk *b;
    for (b = e->drives; b; b = b->next)
        if (b->id && !strcmp(b->id, id))
            return b;
    return NULL;
}

EMU_PRIV struct blk *blk_create(struct emu *e, const char *id, struct err *err)
{
    struct blk *b, **end;
    if (id && blk_find(e, id)) {
        err_set(err, EMU_EEXIST, "there is a drive with id %s already", id);
        return NULL;
    }
    b = emu_alloc(e, sizeof *b);
    if (b && id)
        b->id = emu_strdup(e, id);
    if (!b || (id && !b->id)) {
        emu_free(e, b);
        err_set(err, EMU_ENOMEM, "out of memory for a drive");
        return NULL;
    }
    b->emu = e;
    b->on_write_error = BLK_ON_AUTO;
    for (end = &e->drives; *end; end = &(*end)->next) {
    }
    *end = b;
    return b;
}

static int blk_open_image(struct blk *b, const char *file, const char *format, struct err *err)
{
    unsigned flags = b->image_flags | (b->want_read_only || b->snapshot ? 0 : IMAGE_WRITE);
    struct image *img;
    int r;
    if (!strncmp(file, "embed:", 6))
        r = image_open_provided(b->emu, &img, file + 6, flags, err);
    else
        r = image_open(b->emu, &img, file, format, flags, err);
    if (r)
        return r;
    if (img->guessed_raw)
        emu_log(b->emu, LOG_NOTICE, "%s: format not given and taken for raw; writes to sector 0 that look like another format will be refused (format=raw allows them)", file);
    if (b->snapshot && !b->want_read_only) {
        r = image_overlay_create(b->emu, &img, img, err);
        if (r)
            return r;
    }
    b->file = emu_strdup(b->emu, file);
    b->format = emu_strdup(b->emu, img->ops->read == raw_ops.read ? "raw" : img->backing && b->snapshot ? img->backing->ops->name : img->ops->name);
    if (!b->file || !b->format) {
        image_close(img);
        emu_free(b->emu, b->file);
        emu_free(b->emu, b->format);
        b->file = b->format = NULL;
        return err_set(err, EMU_ENOMEM, "%s: out of memory", file);
    }
    b->image = img;
    b->read_only = b->want_read_only || img->read_only;
    b->size_bytes = img->size_bytes;
    return 0;
}

static void blk_close_image(struct blk *b)
{
    int r = 0;
    if (b->image) {
        r = b->read_only ? 0 : image_flush(b->image);
        if (!r)
            r = image_close(b->image);
        else
            image_close(b->image);
        if (r)
            emu_log(b->emu, LOG_NOTICE, "%s: what was written last may be lost: %s", b->file, emu_strerror(r));
    }
    b->image = NULL;
    b->size_bytes = 0;
    emu_free(b->emu, b->file);
    emu_free(b->emu, b->format);
    b->file = b->format = NULL;
    b->said_full = b->said_error = false;
}

/* One of several words, as its index. */
static int blk_option_word(struct options *o, const char *key, const char *const *words, uint8_t *value, struct err *err)
{
    const char *s = options_get(o, key);
    char all[96] = "";
    uint8_t i;
    if (!s)
        return 0;
    for (i = 0; words[i]; i++) {
        if (!strcmp(words[i], s)) {
            *value = i;
            return 0;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", words[i]);
    }
    return err_set(err, EMU_EINVAL, "%s: %s=%s is none of %s", o->origin, key, s, all);
}

static int blk_read_cache_options(struct blk *b, struct options *o, struct err *err)
{
    static const char *const modes[] = { "writeback", "none", "writethrough", "directsync", "unsafe", NULL };
    static const char *const aios[] = { "threads", "native", "io_uring", NULL };
    uint8_t mode = 0, aio = 0;
    bool direct = false, no_flush = false, writeback;
    int r;
    if ((r = blk_option_word(o, "cache", modes, &mode, err)) || (r = blk_option_word(o, "aio", aios, &aio, err)))
        return r;
    b->write_through = mode == 2 || mode == 3;
    no_flush = mode == 4;
    writeback = !b->write_through;
    if ((r = options_bool(o, "cache.direct", &direct, err)) || (r = options_bool(o, "cache.no-flush", &no_flush, err)) ||
        (r = options_bool(o, "cache.writeback", &writeback, err)))
        return r;
    b->write_through = !writeback;
    if (no_flush)
        b->image_flags |= IMAGE_NO_FLUSH;
    return 0;
}

static int blk_read_policy_options(struct blk *b, struct options *o, struct err *err)
{
    static const char *const errors[] = { "report", "ignore", "stop", "enospc", "auto", NULL };
    static const char *const zeroes[] = { "off", "on", "unmap", NULL };
    static const char *const discards[] = { "ignore", "off", "unmap", "on", NULL };
    uint8_t discard = 0;
    bool locking = true, copy_on_read = false;
    const char *s;
    size_t i;
    int r;
    if ((r = blk_option_word(o, "werror", errors, &b->on_write_error, err)) || (r = blk_option_word(o, "rerror", errors, &b->on_read_error, err)) ||
        (r = blk_option_word(o, "detect-zeroes", zeroes, &b->detect_zeroes, err)) || (r = blk_option_word(o, "discard", discards, &discard, err)) ||
        (r = options_bool(o, "copy-on-read", &copy_on_read, err)))
        return r;
    if (b->on_read_error == BLK_ON_AUTO)
        b->on_read_error = BLK_ON_REPORT;
    if (b->on_read_error == BLK_ON_ENOSPC)
        return err_set(err, EMU_EINVAL, "%s: rerror=enospc makes no sense; report, ignore or stop", o->origin);
    if (copy_on_read)
        return err_set(err, EMU_ENOTSUP, "%s: copy-on-read is not supported; make an overlay with: qemu-img create -f qcow2 -b BASE -F FORMAT", o->origin);
    if (discard >= 2)
        b->image_flags |= IMAGE_UNMAP;
    s = options_get(o, "locking");
    if (!s)
        s = options_get(o, "file.locking");
    if (s) {
        if (strcmp(s, "on") && strcmp(s, "off") && strcmp(s, "auto"))
            return err_set(err, EMU_EINVAL, "%s: locking=%s is none of on, off, auto", o->origin, s);
        locking = strcmp(s, "off") != 0;
    }
    if (!locking)
        b->image_flags |= IMAGE_NO_LOCK;
    for (i = 0; i < o->count; i++)
        if (!strncmp(o->items[i].key, "throttling.", 11) || !strncmp(o->items[i].key, "bps", 3) || !strncmp(o->items[i].key, "iops", 4))
            return err_set(err, EMU_ENOTSUP, "%s: limits on a drive's speed (%s) are not supported yet", o->origin, o->items[i].key);
    return 0;
}

EMU_PRIV int blk_open(struct blk *b, struct options *o, struct err *err)
{
    const char *file = options_get(o, "file"), *format = options_get(o, "format"), *driver = options_get(o, "driver"), *media = options_get(o, "media");
    const char *interface = options_get(o, "if"), *serial = options_get(o, "serial"), *copy;
    int r;
    if (!file)
        file = options_get(o, "file.filename");
    copy = options_get(o, "file.driver");
    if (copy && strcmp(copy, "file") && strcmp(copy, "host_device"))
        return err_set(err, EMU_ENOTSUP, "%s: file.driver=%s is not supported; file is", o->origin, copy);
    if (!format)
        format = driver;
    options_get(o, "index"), options_get(o, "bus"), options_get(o, "unit"), options_get(o, "id"), options_get(o, "node-name"); /* the board's */
    b->snapshot = b->emu->config.snapshot;
    b->want_read_only = media && !strcmp(media, "cdrom");
    if ((r = options_bool(o, "snapshot", &b->snapshot, err)) || (r = options_bool(o, "readonly", &b->want_read_only, err)) ||
        (r = options_bool(o, "read-only", &b->want_read_only, err)) || (r = blk_read_cache_options(b, o, err)) || (r = blk_read_policy_options(b, o, err)))
        return r;
    if (media && !strcmp(media, "cdrom"))
        b->want_read_only = true;
    if ((media && !strcmp(media, "cdrom")) || (interface && !strcmp(interface, "floppy")))
        b->removable = true;
    b->read_only = b->want_read_only;
    if (serial) {
        emu_free(b->emu, b->serial);
        b->serial = emu_strdup(b->emu, serial);
        if (!b->serial)
            return err_set(err, EMU_ENOMEM, "%s: out of memory", o->origin);
    }
    if (!file || !*file) {
        if (b->removable)
            return 0; /* an empty drive */
        return err_set(err, EMU_EINVAL, "%s: needs file=", o->origin);
    }
    return blk_open_image(b, file, format, err);
}

EMU_PRIV int blk_eject(struct blk *b, bool force, struct err *err)
{
    if (!b->removable)
        return err_set(err, EMU_EINVAL, "%s: is not removable", b->id);
    if (b->locked && !force) {
        if (b->media_changed)
            b->media_changed(b->opaque);
        return err_set(err, EMU_EBUSY, "%s: the guest has locked the tray; eject -f takes the medium all the same", b->id);
    }
    if (b->in_flight)
        return err_set(err, EMU_EBUSY, "%s: requests are under way; try again", b->id);
    if (!b->image)
        return 0;
    blk_close_image(b);
    if (b->media_changed)
        b->media_changed(b->opaque);
    return 0;
}

EMU_PRIV int blk_change(struct blk *b, const char *file, const char *format, struct err *err)
{
    struct image *was = b->image;
    char *was_file = b->file, *was_format = b->format;
    int r;
    if (!b->removable)
        return err_set(err, EMU_EINVAL, "%s: is not removable", b->id);
    if (b->locked && b->image) {
        if (b->media_changed)
            b->media_changed(b->opaque);
        return err_set(err, EMU_EBUSY, "%s: the guest has locked the tray; eject it in the guest, or eject -f first", b->id);
    }
    if (b->in_flight)
        return err_set(err, EMU_EBUSY, "%s: requests are under way; try again", b->id);
    b->image = NULL;
    b->file = b->format = NULL;
    r = blk_open_image(b, file, format, err);
    if (r) { /* the old medium stays */
        b->image = was;
        b->file = was_file;
        b->format = was_format;
        return r;
    }
    if (was) {
        struct blk old = *b;
        old.image = was;
        old.file = was_file;
        old.format = was_format;
        blk_close_image(&old);
    }
    b->tray_open = false;
    if (b->media_changed)
        b->media_changed(b->opaque);
    return 0;
}

EMU_PRIV void blk_destroy(struct blk *b)
{
    struct blk **p;
    while (b->requests)
        blk_cancel(b, b->requests);
    blk_close_image(b);
    for (p = &b->emu->drives; *p; p = &(*p)->next)
        if (*p == b) {
            *p = b->next;
            break;
        }
    emu_free(b->emu, b->bounce);
    emu_free(b->emu, b->serial);
    emu_free(b->emu, b->id);
    emu_free(b->emu, b);
}

EMU_PRIV void blk_close_all(struct emu *e)
{
    while (e->drives)
        blk_destroy(e->drives);
}

EMU_PRIV void blk_print_info(struct emu *e, struct buf *out)
{
    struct blk *b;
    for (b = e->drives; b; b = b->next) {
        struct image *img = b->image;
        if (!img) {
            buf_printf(out, "%s: [not inserted]\n", b->id);
        } else {
            buf_printf(out, "%s: %s (%s%s%s)\n", b->id, b->file, b->format, b->read_only ? ", read-only" : "", b->snapshot ? ", snapshot" : "");
            buf_printf(out, "    Size:             %" PRIu64 " bytes\n", b->size_bytes);
            buf_printf(out, "    Cache mode:       %s%s\n", b->write_through ? "writethrough" : "writeback", b->image_flags & IMAGE_NO_FLUSH ? ", ignore flushes" : "");
            if (b->snapshot && !b->want_read_only)
                img = img->backing;
            if (img->backing)
                buf_printf(out, "    Backing file:     %s\n", img->backing->path);
            if (img->ops->info)
                img->ops->info(img, out);
        }
        if (b->removable)
            buf_printf(out, "    Removable device: %slocked, tray %s\n", b->locked ? "" : "not ", b->tray_open ? "open" : "closed");
        if (b->in_use)
            buf_printf(out, "    Reads: %" PRIu64 " (%" PRIu64 " bytes), writes: %" PRIu64 " (%" PRIu64 " bytes), flushes: %" PRIu64 "\n", b->stat_reads,
                       b->stat_read_bytes, b->stat_writes, b->stat_write_bytes, b->stat_flushes);
    }
}
#undef BLK_LATENCY_NS
#undef BLK_FLUSH_NS
#undef BLK_BYTES_PER_NS
#undef BLK_BOUNCE_BYTES
#undef BLK_RETRY_NS
