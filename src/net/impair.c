/* net/impair.c - filter-impair: a bad line, repeatable.
 *
 * Models     Nothing of the outside world: loss, duplication, reordering, delay with jitter, corruption and a rate limit, each direction for itself.
 * Contract   link.c creates one from -object filter-impair,id=,netdev=[,queue=tx|rx|all][,loss=%][,dup=%][,reorder=%][,corrupt=%][,delay=ms][,jitter=ms]
 *            [,rate=bits/s][,limit=frames][,seed=N]. Percentages may have decimals; delay and jitter are milliseconds, or end in us, ms or s.
 * Theory     Super-frames are cut first: a line loses packets, not super-frames. For each plain frame, in this order, a generator of the direction's own
 *            (seeded with seed and direction) decides: lost? corrupted (one bit)? duplicated? reordered? Each decision takes exactly one number, so
 *            that a change of one percentage leaves the others' fates alone. What is not sent at once waits in a list sorted by due time
 *            (virtual); a reordered frame waits as long as it takes for later ones to overtake it.
 * Invariants 1. The same frames at the same virtual times with the same seed meet the same fate.
 *            2. At most limit frames wait in a direction; more are dropped, as a router's full queue drops.
 *            3. Frames that are not reordered leave in the order they came (also with jitter).
 */
#include "../machine.h"
#include "net.h"

enum { IMPAIR_LIMIT = 10000, IMPAIR_PPM = 1000000 };
#define IMPAIR_REORDER_NS (5 * NS_PER_MS) /* how long a reordered frame stays behind when there is no delay */

struct impair_frame {
    struct impair_frame *next;
    int64_t due_ns;
    uint64_t order;
    bool csum_valid;
    size_t size;
    uint8_t *bytes;
};
struct impair_way {
    struct impair *impair;
    enum net_direction direction;
    bool active;
    uint64_t random;
    struct impair_frame *waiting;
    unsigned count;
    int64_t last_due_ns, line_free_ns;
    uint64_t order;
    struct timer timer;
};
struct impair {
    struct net_filter filter;
    struct emu *emu;
    uint32_t loss, dup, reorder, corrupt; /* parts per million */
    int64_t delay_ns, jitter_ns;
    uint64_t rate, limit;
    struct impair_way way[2];
};

/* splitmix64 */
static uint64_t impair_random(struct impair_way *w)
{
    uint64_t z = (w->random += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static bool impair_happens(struct impair_way *w, uint32_t ppm) { return impair_random(w) % IMPAIR_PPM < ppm; }

static void impair_give(struct impair_way *w, uint8_t *bytes, size_t size, bool csum_valid)
{
    struct host_iov piece;
    struct net_frame f;
    memset(&f, 0, sizeof f);
    piece.base = bytes;
    piece.size = size;
    f.pieces = &piece;
    f.count = 1;
    f.size = size;
    f.csum_valid = csum_valid;
    net_deliver(&w->impair->filter, w->direction, &f);
}

static void impair_free_frame(struct impair *im, struct impair_frame *f)
{
    emu_free(im->emu, f->bytes);
    emu_free(im->emu, f);
}

static void impair_due(void *opaque)
{
    struct impair_way *w = opaque;
    int64_t now = emu_now_ns(w->impair->emu);
    while (w->waiting && w->waiting->due_ns <= now) {
        struct impair_frame *f = w->waiting;
        w->waiting = f->next;
        w->count--;
        impair_give(w, f->bytes, f->size, f->csum_valid);
        impair_free_frame(w->impair, f);
    }
    if (w->waiting)
        timer_arm(&w->timer, w->waiting->due_ns);
}

static void impair_wait(struct impair_way *w, const uint8_t *bytes, size_t size, bool csum_valid, int64_t due)
{
    struct impair *im = w->impair;
    struct impair_frame *f, **at;
    if (w->count >= im->limit || !(f = emu_alloc(im->emu, sizeof *f))) {
        im->filter.port->drops_in++;
        return;
    }
    f->bytes = emu_alloc(im->emu, size);
    if (!f->bytes) {
        emu_free(im->emu, f);
        im->filter.port->drops_in++;
        return;
    }
    memcpy(f->bytes, bytes, size);
    f->size = size;
    f->csum_valid = csum_valid;
    f->due_ns = due;
    f->order = w->order++;
    for (at = &w->waiting; *at && (*at)->due_ns <= due; at = &(*at)->next)
        ;
    f->next = *at;
    *at = f;
    w->count++;
    timer_arm(&w->timer, w->waiting->due_ns);
}

static int impair_plain(void *opaque, const struct net_frame *plain)
{
    struct impair_way *w = opaque;
    struct impair *im = w->impair;
    int64_t now = emu_now_ns(im->emu), due = now;
    uint8_t *bytes = plain->pieces[0].base, *copy = NULL;
    size_t size = plain->size;
    bool lost = impair_happens(w, im->loss), corrupted = impair_happens(w, im->corrupt), twice = impair_happens(w, im->dup), reordered = impair_happens(w, im->reorder);
    uint64_t where = impair_random(w), spread = impair_random(w);
    bool valid = plain->csum_valid && !corrupted;
    if (lost)
        return 1;
    if (corrupted && size > 14) { /* behind the addresses, so that it arrives */
        copy = emu_alloc(im->emu, size);
        if (!copy)
            return 1;
        memcpy(copy, bytes, size);
        copy[14 + where % (size - 14)] ^= (uint8_t)(1u << ((where >> 32) & 7));
        bytes = copy;
    }
    if (im->rate) {
        int64_t start = EMU_MAX(now, w->line_free_ns);
        w->line_free_ns = start + (int64_t)muldiv64((uint64_t)size * 8, (uint64_t)NS_PER_SEC, im->rate);
        due = w->line_free_ns;
    }
    due += im->delay_ns;
    if (im->jitter_ns)
        due += (int64_t)(spread % ((uint64_t)im->jitter_ns * 2 + 1)) - im->jitter_ns;
    if (due < now)
        due = now;
    if (reordered) {
        due += im->delay_ns ? im->delay_ns / 2 + im->jitter_ns + NS_PER_MS : IMPAIR_REORDER_NS;
    } else {
        due = EMU_MAX(due, w->last_due_ns);
        w->last_due_ns = due;
    }
    if (due <= now && !(w->waiting && w->waiting->due_ns <= now)) {
        impair_give(w, bytes, size, valid);
        if (twice)
            impair_give(w, bytes, size, valid);
    } else {
        impair_wait(w, bytes, size, valid, due);
        if (twice)
            impair_wait(w, bytes, size, valid, due);
    }
    emu_free(im->emu, copy);
    return 1;
}

static int impair_frame_in(struct net_filter *filter, enum net_direction direction, const struct net_frame *f)
{
    struct impair *im = (struct impair *)filter;
    struct impair_way *w = &im->way[direction];
    if (!w->active)
        return 0;
    if (f->count == 1 && f->gso == NET_GSO_NONE && !f->needs_csum) {
        impair_plain(w, f);
    } else if (f->gso == NET_GSO_NONE && !f->needs_csum) { /* net_frame_cut() flattens, and would vouch for checksums that nobody checked */
        struct net_frame flat = *f;
        struct host_iov piece;
        piece.size = f->size;
        piece.base = emu_alloc(im->emu, f->size);
        if (piece.base) {
            net_frame_copy(f, 0, piece.base, f->size);
            flat.pieces = &piece;
            flat.count = 1;
            impair_plain(w, &flat);
            emu_free(im->emu, piece.base);
        }
    } else {
        net_frame_cut(im->emu, f, impair_plain, w);
    }
    return 1;
}

static void impair_destroy(struct net_filter *filter)
{
    struct impair *im = (struct impair *)filter;
    struct emu *e = im->emu;
    unsigned i;
    for (i = 0; i < 2; i++) {
        timer_cancel(&im->way[i].timer);
        while (im->way[i].waiting) {
            struct impair_frame *f = im->way[i].waiting;
            im->way[i].waiting = f->next;
            impair_free_frame(im, f);
        }
    }
    emu_free(e, im);
}

/* "0.5" -> 500 thousandths; digits behind the third are dropped. Returns the rest of the text, or NULL. */
static const char *impair_decimal(const char *s, uint64_t *thousandths, unsigned digits)
{
    uint64_t v = 0;
    unsigned n = 0, i;
    bool any = false;
    for (; *s >= '0' && *s <= '9'; s++, any = true) {
        if (v > 1000000000)
            return NULL;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    for (i = 0; *s == '.' && i == 0; i++)
        for (s++; *s >= '0' && *s <= '9'; s++, any = true)
            if (n < digits) {
                v = v * 10 + (uint64_t)(*s - '0');
                n++;
            }
    for (; n < digits; n++)
        v *= 10;
    *thousandths = v;
    return any ? s : NULL;
}

static int impair_percent(struct options *opts, const char *key, uint32_t *ppm, struct err *err)
{
    const char *text = options_get(opts, key), *rest;
    uint64_t v;
    if (!text)
        return 0;
    rest = impair_decimal(text, &v, 4);
    if (!rest || (*rest && strcmp(rest, "%")) || v > IMPAIR_PPM)
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not a percentage between 0 and 100", opts->origin, key, text);
    *ppm = (uint32_t)v;
    return 0;
}

static int impair_time(struct options *opts, const char *key, int64_t *ns, struct err *err)
{
    const char *text = options_get(opts, key), *rest;
    uint64_t v, unit;
    if (!text)
        return 0;
    rest = impair_decimal(text, &v, 3);
    unit = !rest ? 0 : !*rest || !strcmp(rest, "ms") ? 1000 : !strcmp(rest, "us") ? 1 : !strcmp(rest, "s") ? 1000000 : 0;
    if (!unit || v > UINT64_C(3600000000000) / unit)
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not a time up to an hour (milliseconds, or with us, ms or s)", opts->origin, key, text);
    *ns = (int64_t)(v * unit);
    return 0;
}

/* Bits a second, with k, M or G as line rates have them (powers of ten). */
static int impair_rate(struct options *opts, uint64_t *rate, struct err *err)
{
    const char *text = options_get(opts, "rate"), *rest;
    uint64_t v = 0, unit = 0;
    if (!text)
        return 0;
    rest = impair_decimal(text, &v, 3);
    if (rest && *rest && rest[1])
        rest = NULL;
    if (rest)
        unit = !*rest ? 1 : *rest == 'k' || *rest == 'K' ? 1000 : *rest == 'M' ? 1000000 : *rest == 'G' ? 1000000000 : 0;
    if (!unit || v > UINT64_C(1000000000000000) / unit || v * unit / 1000 < 1)
        return err_set(err, EMU_EINVAL, "%s: rate=%s is not a number of bits a second (like 10M, up to 1000G)", opts->origin, text);
    *rate = v * unit / 1000;
    return 0;
}

EMU_PRIV int filter_impair_create(struct emu *e, struct options *opts, struct err *err)
{
    const char *id = options_get(opts, "id"), *netdev = options_get(opts, "netdev"), *queue = options_get(opts, "queue");
    struct net_port *port;
    struct impair *im;
    uint64_t seed = 1, rate = 0, limit = IMPAIR_LIMIT;
    unsigned i;
    int r;
    if (!id || !netdev)
        return err_set(err, EMU_EINVAL, "%s: needs id= and netdev=", opts->origin);
    port = net_port_find(e, netdev);
    if (!port)
        return err_set(err, EMU_ENOENT, "%s: there is no network backend with id %s", opts->origin, netdev);
    if (queue && strcmp(queue, "all") && strcmp(queue, "tx") && strcmp(queue, "rx"))
        return err_set(err, EMU_EINVAL, "%s: queue=%s is not all, tx (from the guest) or rx (to the guest)", opts->origin, queue);
    im = emu_alloc(e, sizeof *im);
    if (!im)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", opts->origin);
    im->emu = e;
    if ((r = impair_percent(opts, "loss", &im->loss, err)) || (r = impair_percent(opts, "dup", &im->dup, err)) ||
        (r = impair_percent(opts, "reorder", &im->reorder, err)) || (r = impair_percent(opts, "corrupt", &im->corrupt, err)) ||
        (r = impair_time(opts, "delay", &im->delay_ns, err)) || (r = impair_time(opts, "jitter", &im->jitter_ns, err)) ||
        (r = impair_rate(opts, &rate, err)) || (r = options_u64(opts, "limit", 1, 1000000, &limit, err)) ||
        (r = options_u64(opts, "seed", 0, UINT64_MAX, &seed, err))) {
        emu_free(e, im);
        return r;
    }
    im->rate = rate;
    im->limit = limit;
    for (i = 0; i < 2; i++) {
        struct impair_way *w = &im->way[i];
        w->impair = im;
        w->direction = i ? NET_FROM_PEER : NET_TO_PEER;
        w->random = seed * 2 + i;
        /* the filter sits on the backend: frames from its peer come from the guest */
        w->active = !queue || !strcmp(queue, "all") || !strcmp(queue, "tx") == (w->direction == NET_FROM_PEER);
        timer_init(&w->timer, e, impair_due, w);
    }
    snprintf(im->filter.id, sizeof im->filter.id, "%s", id);
    im->filter.frame = impair_frame_in;
    im->filter.destroy = impair_destroy;
    net_filter_attach(port, &im->filter);
    return 0;
}
#undef IMPAIR_REORDER_NS
