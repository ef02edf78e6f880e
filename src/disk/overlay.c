/* disk/overlay.c - what a -snapshot run writes, kept apart from the image and thrown away.
 *
 * Contract   image_overlay_create() puts one of these over an image that is open read-only; to block.c it is an image like any other.
 * Theory     The disk is cut into clusters of 64 KiB. A cluster that was written has an entry in a hash table: its place in an unnamed
 *            temporary file, and per 4 KiB block a bit "it is here" and a bit "it is all zeros". Everything else is read from below.
 *            Places are given out one after another, so the file is only as large as what was written.
 * Invariants 1. A block whose `here` bit is clear was never written; a `zero` bit implies its `here` bit.
 *            2. The image below is only read.
 */
#include "../machine.h"
#include "image.h"

enum { OVERLAY_CLUSTER_BITS = 16, OVERLAY_BLOCK_BITS = 12, OVERLAY_CLUSTER = 1 << OVERLAY_CLUSTER_BITS, OVERLAY_BLOCK = 1 << OVERLAY_BLOCK_BITS,
       OVERLAY_BLOCKS = OVERLAY_CLUSTER / OVERLAY_BLOCK };
EMU_STATIC_ASSERT(OVERLAY_BLOCKS <= 16, overlay_masks);

struct overlay_cluster {
    uint64_t key;  /* cluster number + 1; 0: empty entry */
    uint64_t slot; /* place in the temporary file, in clusters */
    uint16_t here, zero;
};
struct overlay {
    struct host_file *file;
    struct overlay_cluster *table;
    size_t count, capacity; /* capacity: a power of two */
    uint64_t slots;
};

static size_t overlay_hash(uint64_t key) { return (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 24); }

static struct overlay_cluster *overlay_find(const struct overlay *o, uint64_t cluster)
{
    size_t i = overlay_hash(cluster + 1) & (o->capacity - 1);
    for (; o->table[i].key; i = (i + 1) & (o->capacity - 1))
        if (o->table[i].key == cluster + 1)
            return &o->table[i];
    return NULL;
}

/* The cluster's entry, made if need be; NULL without memory. */
static struct overlay_cluster *overlay_get(struct emu *e, struct overlay *o, uint64_t cluster)
{
    struct overlay_cluster *c = overlay_find(o, cluster);
    size_t i;
    if (c)
        return c;
    if (o->count * 2 >= o->capacity) {
        struct overlay bigger = *o;
        bigger.capacity = o->capacity * 2;
        bigger.table = emu_alloc(e, bigger.capacity * sizeof *bigger.table);
        if (!bigger.table)
            return NULL;
        for (i = 0; i < o->capacity; i++)
            if (o->table[i].key) {
                size_t j = overlay_hash(o->table[i].key) & (bigger.capacity - 1);
                while (bigger.table[j].key)
                    j = (j + 1) & (bigger.capacity - 1);
                bigger.table[j] = o->table[i];
            }
        emu_free(e, o->table);
        *o = bigger;
    }
    i = overlay_hash(cluster + 1) & (o->capacity - 1);
    while (o->table[i].key)
        i = (i + 1) & (o->capacity - 1);
    o->table[i].key = cluster + 1;
    o->table[i].slot = o->slots++;
    o->count++;
    return &o->table[i];
}

static int overlay_read(struct image *img, uint64_t offset, void *buf, size_t size)
{
    struct overlay *o = img->state;
    uint8_t *p = buf;
    int r = 0;
    while (size && !r) {
        uint64_t cluster = offset >> OVERLAY_CLUSTER_BITS;
        const struct overlay_cluster *c = overlay_find(o, cluster);
        uint32_t in = (uint32_t)(offset & (OVERLAY_CLUSTER - 1));
        size_t n = EMU_MIN(size, (size_t)(OVERLAY_CLUSTER - in));
        if (!c) {
            while (n < size && !overlay_find(o, (offset + n) >> OVERLAY_CLUSTER_BITS))
                n = EMU_MIN(size, n + OVERLAY_CLUSTER);
            r = image_read_padded(img->backing, offset, p, n);
        } else { /* a run of blocks of the same kind */
            unsigned block = in >> OVERLAY_BLOCK_BITS, last = (unsigned)((in + n - 1) >> OVERLAY_BLOCK_BITS), end = block;
            bool here = c->here >> block & 1, zero = c->zero >> block & 1;
            while (end < last && (c->here >> (end + 1) & 1) == here && (c->zero >> (end + 1) & 1) == zero)
                end++;
            n = EMU_MIN(n, (size_t)((end + 1) << OVERLAY_BLOCK_BITS) - in);
            if (zero)
                memset(p, 0, n);
            else if (here)
                r = host_file_read(o->file, (c->slot << OVERLAY_CLUSTER_BITS) + in, p, n);
            else
                r = image_read_padded(img->backing, offset, p, n);
        }
        p += n;
        offset += n;
        size -= n;
    }
    return r;
}

/* A block that is written in part: its other bytes come up from where they are now. */
static int overlay_merge_block(struct image *img, struct overlay_cluster *c, uint64_t offset, const uint8_t *data, size_t size)
{
    struct overlay *o = img->state;
    uint8_t block[OVERLAY_BLOCK];
    uint32_t in = (uint32_t)(offset & (OVERLAY_BLOCK - 1));
    unsigned n = (unsigned)(offset >> OVERLAY_BLOCK_BITS) & (OVERLAY_BLOCKS - 1);
    uint64_t place = (c->slot << OVERLAY_CLUSTER_BITS) + ((uint64_t)n << OVERLAY_BLOCK_BITS);
    int r;
    if ((c->here >> n & 1) && !(c->zero >> n & 1))
        return host_file_write(o->file, place + in, data, size);
    r = overlay_read(img, offset - in, block, sizeof block);
    if (r)
        return r;
    memcpy(block + in, data, size);
    return host_file_write(o->file, place, block, sizeof block);
}

static int overlay_write(struct image *img, uint64_t offset, const void *buf, size_t size)
{
    struct overlay *o = img->state;
    const uint8_t *p = buf;
    while (size) {
        struct overlay_cluster *c = overlay_get(img->emu, o, offset >> OVERLAY_CLUSTER_BITS);
        uint32_t in = (uint32_t)(offset & (OVERLAY_CLUSTER - 1));
        size_t n = EMU_MIN(size, (size_t)(OVERLAY_CLUSTER - in));
        unsigned first = in >> OVERLAY_BLOCK_BITS, count = 1;
        int r;
        if (!c)
            return EMU_ENOMEM;
        if ((in & (OVERLAY_BLOCK - 1)) || n < OVERLAY_BLOCK) {
            n = EMU_MIN(n, (size_t)(OVERLAY_BLOCK - (in & (OVERLAY_BLOCK - 1))));
            r = overlay_merge_block(img, c, offset, p, n);
        } else {
            n &= ~(size_t)(OVERLAY_BLOCK - 1);
            count = (unsigned)(n >> OVERLAY_BLOCK_BITS);
            r = host_file_write(o->file, (c->slot << OVERLAY_CLUSTER_BITS) + in, p, n);
        }
        if (r)
            return r;
        c->here = (uint16_t)(c->here | ((1u << count) - 1) << first);
        c->zero = (uint16_t)(c->zero & ~(((1u << count) - 1) << first));
        p += n;
        offset += n;
        size -= n;
    }
    return 0;
}

static int overlay_write_zeroes(struct image *img, uint64_t offset, uint64_t size, bool unmap)
{
    struct overlay *o = img->state;
    static const uint8_t zeros[OVERLAY_BLOCK];
    (void)unmap;
    while (size) {
        uint32_t in = (uint32_t)(offset & (OVERLAY_CLUSTER - 1));
        uint64_t n = EMU_MIN(size, (uint64_t)(OVERLAY_CLUSTER - in));
        if ((in & (OVERLAY_BLOCK - 1)) || n < OVERLAY_BLOCK) {
            int r;
            n = EMU_MIN(n, (uint64_t)(OVERLAY_BLOCK - (in & (OVERLAY_BLOCK - 1))));
            r = overlay_write(img, offset, zeros, (size_t)n);
            if (r)
                return r;
        } else {
            struct overlay_cluster *c = overlay_get(img->emu, o, offset >> OVERLAY_CLUSTER_BITS);
            unsigned mask;
            if (!c)
                return EMU_ENOMEM;
            n &= ~(uint64_t)(OVERLAY_BLOCK - 1);
            mask = ((1u << (unsigned)(n >> OVERLAY_BLOCK_BITS)) - 1) << (in >> OVERLAY_BLOCK_BITS);
            c->here = (uint16_t)(c->here | mask);
            c->zero = (uint16_t)(c->zero | mask);
        }
        offset += n;
        size -= n;
    }
    return 0;
}

static int overlay_close(struct image *img)
{
    struct overlay *o = img->state;
    if (o) {
        host_file_close(o->file);
        emu_free(img->emu, o->table);
        emu_free(img->emu, o);
    }
    return 0;
}

/* Nothing of it outlives us. */
static int overlay_flush(struct image *img)
{
    (void)img;
    return 0;
}

static const struct image_ops overlay_ops = {
    "snapshot", NULL, NULL, overlay_close, overlay_read, overlay_write, overlay_flush, NULL, overlay_write_zeroes, NULL, NULL,
};

EMU_PRIV int image_overlay_create(struct emu *e, struct image **out, struct image *backing, struct err *err)
{
    struct image *img = emu_alloc(e, sizeof *img);
    struct overlay *o = emu_alloc(e, sizeof *o);
    int r = img && o ? 0 : EMU_ENOMEM;
    *out = NULL;
    if (!r) {
        img->emu = e;
        img->ops = &overlay_ops;
        img->state = o;
        img->size_bytes = backing->size_bytes;
        img->path = emu_strdup(e, backing->path);
        o->capacity = 256;
        o->table = emu_alloc(e, o->capacity * sizeof *o->table);
        r = img->path && o->table ? host_file_temp(&o->file, err) : EMU_ENOMEM;
        if (r && r != EMU_ENOMEM)
            err_prefix(err, r, "snapshot of %s: temporary file", backing->path);
    }
    if (r == EMU_ENOMEM)
        err_set(err, r, "snapshot of %s: out of memory", backing->path);
    if (r) {
        image_close(backing);
        if (o)
            emu_free(e, o->table);
        if (img)
            emu_free(e, img->path);
        emu_free(e, o);
        emu_free(e, img);
        return r;
    }
    img->backing = backing;
    *out = img;
    return 0;
}
