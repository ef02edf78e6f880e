/* disk/qcow2.c - the qcow2 image format, versions 2 and 3, read and written.
 *
 * Models     "qcow2 image format", docs/interop/qcow2.txt of the QEMU project, as of its version 7.2. All numbers big-endian.
 * Contract   An image_ops of image.c; qcow2_create() and qcow2_check() for tools and tests. `qemu-img check` finds nothing after any run.
 * Theory     Guest cluster -> L1 entry -> L2 table -> host cluster; a host cluster's reference count stands in refcount blocks that the
 *            refcount table lists. L1 and refcount table are held in memory; L2 tables and refcount blocks in two small
 *            write-back caches (4 ways, least recently used goes).
 *            Order on disk, so that a crash at any moment leaks clusters at worst:
 *              data, raised counts --sync--> L2 tables --sync--> L1 --sync--> lowered counts
 *            qcow2_flush_tables() walks this chain. A cluster that is let go is only noted (pending) and its count lowered after the tables
 *            that no longer name it are on disk. A dirty L2 table that must leave the cache walks the whole chain first.
 *            A write goes in place when its L2 entry says COPIED (count is exactly 1, not shared with a snapshot); else new clusters
 *            are taken in one run for as many guest clusters as possible, filled up with what was there, and entered into the L2 table.
 *            New clusters beyond the file's old end are zeros already.
 * Invariants 1. A table entry in a cache or in memory never names a cluster whose data is not in the file yet.
 *            2. A count is raised (in the cache) before an entry names the cluster, and lowered only after no entry on disk does.
 *            3. No write goes to header, L1, refcount table, snapshot table, a refcount block or L2 table except as such: `meta` knows them all.
 *            4. No slot pointer of a cache is used after another access to the same cache.
 *            5. After damage was found nothing is written any more but the header's "corrupt" bit.
 * Missing    zstd compression, external data files, extended L2 entries, encryption, bitmaps: refused by name (bitmaps: dropped as the
 *            autoclear rule says). Lazy refcounts: counts are kept exactly, which that feature allows; its dirty bit is repaired on open.
 */
#include "../machine.h"
#include "image.h"

#define QCOW2_MAGIC UINT32_C(0x514649FB)
#define QCOW2_COPIED (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_ZERO UINT64_C(1)
#define QCOW2_OFFSET_MASK UINT64_C(0x00FFFFFFFFFFFE00)
#define QCOW2_L1_MAX_BYTES (32 * MIB)
#define QCOW2_REFTABLE_MAX_BYTES (8 * MIB)
#define QCOW2_RUN_MAX_BYTES (16 * MIB) /* clusters taken at once */
#ifdef EMU_TORTURE
#define QCOW2_L2_CACHE_BYTES 0
#define QCOW2_REFCOUNT_CACHE_BYTES 0
#else
#define QCOW2_L2_CACHE_BYTES (8 * MIB)
#define QCOW2_REFCOUNT_CACHE_BYTES (2 * MIB)
#endif

enum { /* header offsets */
    QCOW2_H_VERSION = 4, QCOW2_H_BACKING_OFFSET = 8, QCOW2_H_BACKING_SIZE = 16, QCOW2_H_CLUSTER_BITS = 20, QCOW2_H_SIZE = 24, QCOW2_H_CRYPT = 32,
    QCOW2_H_L1_SIZE = 36, QCOW2_H_L1_OFFSET = 40, QCOW2_H_RT_OFFSET = 48, QCOW2_H_RT_CLUSTERS = 56, QCOW2_H_SNAPSHOTS = 60, QCOW2_H_SNAPSHOT_OFFSET = 64,
    QCOW2_V2_HEADER = 72, QCOW2_H_INCOMPATIBLE = 72, QCOW2_H_COMPATIBLE = 80, QCOW2_H_AUTOCLEAR = 88, QCOW2_H_REFCOUNT_ORDER = 96,
    QCOW2_H_HEADER_LENGTH = 100, QCOW2_H_COMPRESSION = 104, QCOW2_V3_HEADER = 104, QCOW2_HEADER_READ = 112
};
enum { QCOW2_INCOMPAT_DIRTY = 1, QCOW2_INCOMPAT_CORRUPT = 2, QCOW2_INCOMPAT_DATA_FILE = 4, QCOW2_INCOMPAT_COMPRESSION = 8, QCOW2_INCOMPAT_EXTENDED_L2 = 16 };
enum { QCOW2_COMPAT_LAZY = 1 };
#define QCOW2_EXT_BACKING_FORMAT UINT32_C(0xE2792ACA)
#define QCOW2_EXT_FEATURE_NAMES UINT32_C(0x6803F857)
enum { QCOW2_WAYS = 4, QCOW2_MIN_CLUSTER_BITS = 9, QCOW2_MAX_CLUSTER_BITS = 21, QCOW2_MAX_SNAPSHOTS = 65536, QCOW2_SNAPSHOT_HEADER = 40 };

struct qcow2_slot {
    uint64_t offset; /* 0: empty */
    uint8_t *data;   /* one cluster */
    uint64_t used;
    bool dirty;
};
struct qcow2_cache {
    struct qcow2_slot *slots; /* sets * QCOW2_WAYS */
    unsigned sets;
    unsigned dirty;
    uint64_t clock;
};
struct qcow2_extent { /* of host clusters or bytes */
    uint64_t first, count;
};

struct qcow2 {
    struct image *img;
    unsigned version, cluster_bits, l2_bits, refcount_order, block_bits; /* block_bits: counts in a refcount block, as a power of two */
    uint32_t cluster_size;
    uint64_t size_bytes; /* as the header says */
    uint64_t incompatible;

    uint64_t *l1;
    uint32_t l1_size;
    uint64_t l1_offset;
    uint32_t l1_dirty_first, l1_dirty_end; /* entries not on disk yet; empty when equal */
    uint64_t *rt;
    uint32_t rt_entries;
    uint64_t rt_offset;
    struct qcow2_extent *snapshots; /* L1 tables of snapshots: offset, entries */
    uint32_t snapshot_count;
    uint64_t snapshot_offset, snapshot_bytes;

    struct qcow2_cache l2, refcounts;
    uint64_t *meta; /* hash set of the clusters that hold L2 tables and refcount blocks; entry: cluster + 1 */
    size_t meta_count, meta_capacity;
    struct qcow2_extent *pending; /* clusters let go, invariant 2 */
    size_t pending_count, pending_capacity;

    uint64_t free_hint; /* where the next search begins */
    uint64_t file_end;
    bool fixed_end; /* a device: nothing beyond its end, and nothing known to be zero */
    bool unsynced;  /* written since the last sync */
    bool corrupt;
    uint8_t *bounce;      /* one cluster */
    uint8_t *inflated;    /* the last compressed cluster, as it reads */
    uint64_t inflated_entry;
};

/* ---- damage, plain I/O ---- */

/* Says once what is wrong; a writable image is written no more (invariant 5). */
static int qcow2_damaged(struct qcow2 *q, bool fatal, const char *what, uint64_t where)
{
    uint8_t bits[8];
    emu_log_once(q->img->emu, &q->img->said_damage, LOG_NOTICE, "%s: damaged: %s (at 0x%" PRIx64 ")%s; look at it with: qemu-img check", q->img->path, what, where,
                 fatal && !q->img->read_only ? "; nothing more is written to it" : "");
    if (fatal && !q->img->read_only && !q->corrupt) {
        q->corrupt = true;
        if (q->version >= 3) {
            q->incompatible |= QCOW2_INCOMPAT_CORRUPT;
            st64be(bits, q->incompatible);
            host_file_write(q->img->file, QCOW2_H_INCOMPATIBLE, bits, 8);
        }
    }
    return EMU_EIO;
}

static int qcow2_put(struct qcow2 *q, uint64_t offset, const void *buf, size_t size)
{
    int r;
    if (q->fixed_end && (offset > q->file_end || size > q->file_end - offset))
        return EMU_ENOSPC;
    r = host_file_write(q->img->file, offset, buf, size);
    q->unsynced = true;
    q->file_end = EMU_MAX(q->file_end, offset + size); /* after an error too: a part may be there, and is not zeros */
    return r;
}

static int qcow2_sync(struct qcow2 *q)
{
    int r;
    if (!q->unsynced)
        return 0;
    r = image_host_sync(q->img);
    if (!r)
        q->unsynced = false;
    return r;
}

/* ---- which clusters are tables (invariant 3) ---- */

static size_t qcow2_meta_slot(const struct qcow2 *q, uint64_t cluster)
{
    size_t mask = q->meta_capacity - 1, i = (size_t)(((cluster + 1) * UINT64_C(0x9E3779B97F4A7C15)) >> 20) & mask;
    while (q->meta[i] && q->meta[i] != cluster + 1)
        i = (i + 1) & mask;
    return i;
}

static bool qcow2_meta_has(const struct qcow2 *q, uint64_t cluster) { return q->meta_capacity && q->meta[qcow2_meta_slot(q, cluster)]; }

static int qcow2_meta_add(struct qcow2 *q, uint64_t cluster)
{
    if (q->meta_count * 2 >= q->meta_capacity) {
        uint64_t *old = q->meta;
        size_t i, old_capacity = q->meta_capacity, capacity = old_capacity ? old_capacity * 2 : 64;
        uint64_t *bigger = emu_alloc(q->img->emu, capacity * sizeof *bigger);
        if (!bigger)
            return EMU_ENOMEM;
        q->meta = bigger;
        q->meta_capacity = capacity;
        for (i = 0; i < old_capacity; i++)
            if (old[i])
                q->meta[qcow2_meta_slot(q, old[i] - 1)] = old[i];
        emu_free(q->img->emu, old);
    }
    q->meta[qcow2_meta_slot(q, cluster)] = cluster + 1;
    q->meta_count++;
    return 0;
}

static void qcow2_meta_remove(struct qcow2 *q, uint64_t cluster)
{
    size_t mask = q->meta_capacity - 1, hole, i;
    if (!qcow2_meta_has(q, cluster))
        return;
    hole = qcow2_meta_slot(q, cluster);
    q->meta[hole] = 0;
    q->meta_count--;
    for (i = (hole + 1) & mask; q->meta[i]; i = (i + 1) & mask) { /* close the gap in the probe sequence */
        uint64_t moved = q->meta[i];
        q->meta[i] = 0;
        q->meta[qcow2_meta_slot(q, moved - 1)] = moved;
    }
}

static bool qcow2_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) { return a_size && b_size && a < b + b_size && b < a + a_size; }

/* Header, L1, refcount table, snapshot table and the snapshots' L1 tables. */
static bool qcow2_hits_fixed(const struct qcow2 *q, uint64_t offset, uint64_t size)
{
    uint32_t i;
    if (qcow2_overlap(offset, size, 0, q->cluster_size) || qcow2_overlap(offset, size, q->l1_offset, (uint64_t)q->l1_size * 8) ||
        qcow2_overlap(offset, size, q->rt_offset, (uint64_t)q->rt_entries * 8) || qcow2_overlap(offset, size, q->snapshot_offset, q->snapshot_bytes))
        return true;
    for (i = 0; i < q->snapshot_count; i++)
        if (qcow2_overlap(offset, size, q->snapshots[i].first, q->snapshots[i].count * 8))
            return true;
    return false;
}

static bool qcow2_hits_meta(const struct qcow2 *q, uint64_t offset, uint64_t size)
{
    uint64_t c;
    if (qcow2_hits_fixed(q, offset, size))
        return true;
    for (c = offset >> q->cluster_bits; c <= (offset + size - 1) >> q->cluster_bits; c++)
        if (qcow2_meta_has(q, c))
            return true;
    return false;
}

/* ---- caches ---- */

static int qcow2_flush_tables(struct qcow2 *q);

static int qcow2_cache_create(struct qcow2 *q, struct qcow2_cache *c, uint64_t bytes)
{
    uint64_t slots = EMU_MIN(bytes >> q->cluster_bits, (uint64_t)1024);
    c->sets = (unsigned)EMU_MAX(slots / QCOW2_WAYS, (uint64_t)1);
    c->slots = emu_alloc(q->img->emu, (size_t)c->sets * QCOW2_WAYS * sizeof *c->slots);
    return c->slots ? 0 : EMU_ENOMEM;
}

static void qcow2_cache_drop(struct qcow2 *q, struct qcow2_cache *c, bool free_slots)
{
    size_t i;
    for (i = 0; c->slots && i < (size_t)c->sets * QCOW2_WAYS; i++) {
        c->slots[i].offset = 0;
        c->slots[i].dirty = false;
        if (free_slots)
            emu_free(q->img->emu, c->slots[i].data);
    }
    c->dirty = 0;
    if (free_slots) {
        emu_free(q->img->emu, c->slots);
        c->slots = NULL;
    }
}

static int qcow2_slot_write(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_slot *s)
{
    int r;
    if (!s->dirty)
        return 0;
    r = qcow2_put(q, s->offset, s->data, q->cluster_size);
    if (!r) {
        s->dirty = false;
        c->dirty--;
    }
    return r;
}

static int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c)
{
    size_t i;
    int r = 0;
    for (i = 0; !r && c->dirty && i < (size_t)c->sets * QCOW2_WAYS; i++)
        r = qcow2_slot_write(q, c, &c->slots[i]);
    return r;
}

static void qcow2_slot_dirty(struct qcow2_cache *c, struct qcow2_slot *s)
{
    if (!s->dirty) {
        s->dirty = true;
        c->dirty++;
    }
}

/* The slot of the table at offset; load: from the file, else its bytes are the caller's to fill. */
static int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, bool load, struct qcow2_slot **out)
{
    struct qcow2_slot *set = c->slots + (size_t)((offset >> q->cluster_bits) % c->sets) * QCOW2_WAYS, *victim = set;
    unsigned i;
    int r = 0;
    for (i = 0; i < QCOW2_WAYS; i++) {
        if (set[i].offset == offset) {
            set[i].used = ++c->clock;
            *out = &set[i];
            return 0;
        }
        if (set[i].used < victim->used)
            victim = &set[i];
    }
    if (victim->dirty)
        r = c == &q->l2 ? qcow2_flush_tables(q) : qcow2_slot_write(q, c, victim);
    if (r)
        return r;
    if (!victim->data && !(victim->data = emu_alloc(q->img->emu, q->cluster_size)))
        return EMU_ENOMEM;
    victim->offset = 0;
    victim->used = 0;
    if (load && (r = host_file_read(q->img->file, offset, victim->data, q->cluster_size)))
        return r;
    victim->offset = offset;
    victim->used = ++c->clock;
    *out = victim;
    return 0;
}

/* ---- reference counts ---- */

static uint64_t qcow2_count_load(const struct qcow2 *q, const uint8_t *block, uint64_t index)
{
    switch (q->refcount_order) {
    case 0: return block[index >> 3] >> (index & 7) & 1;
    case 1: return block[index >> 2] >> (index & 3) * 2 & 3;
    case 2: return block[index >> 1] >> (index & 1) * 4 & 15;
    case 3: return block[index];
    case 4: return ld16be(block + index * 2);
    case 5: return ld32be(block + index * 4);
    default: return ld64be(block + index * 8);
    }
}

static void qcow2_count_store(const struct qcow2 *q, uint8_t *block, uint64_t index, uint64_t value)
{
    unsigned bits, shift;
    uint8_t mask;
    switch (q->refcount_order) {
    case 3: block[index] = (uint8_t)value; return;
    case 4: st16be(block + index * 2, (uint16_t)value); return;
    case 5: st32be(block + index * 4, (uint32_t)value); return;
    case 6: st64be(block + index * 8, value); return;
    default:
        bits = 1u << q->refcount_order;
        shift = (unsigned)(index * bits & 7);
        mask = (uint8_t)(((1u << bits) - 1) << shift);
        block += index * bits >> 3;
        *block = (uint8_t)((*block & ~mask) | (unsigned)value << shift);
    }
}

static uint64_t qcow2_count_max(const struct qcow2 *q) { return q->refcount_order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << q->refcount_order)) - 1; }

/* Offset of the block that holds a cluster's count; 0: no block yet, the count is 0. */
static int qcow2_block_of(struct qcow2 *q, uint64_t cluster, uint64_t *offset)
{
    uint64_t i = cluster >> q->block_bits, entry;
    *offset = 0;
    if (i >= q->rt_entries || !q->rt[i])
        return 0;
    entry = q->rt[i] & ~UINT64_C(511);
    if (!entry || (entry & (q->cluster_size - 1)) || entry >= q->file_end)
        return qcow2_damaged(q, true, "the refcount table points to no refcount block", q->rt_offset + i * 8);
    *offset = entry;
    return 0;
}

static int qcow2_count_get(struct qcow2 *q, uint64_t cluster, uint64_t *value)
{
    struct qcow2_slot *s;
    uint64_t block;
    int r = qcow2_block_of(q, cluster, &block);
    *value = 0;
    if (r || !block || (r = qcow2_cache_get(q, &q->refcounts, block, true, &s)))
        return r;
    *value = qcow2_count_load(q, s->data, cluster & ((UINT64_C(1) << q->block_bits) - 1));
    return 0;
}

/* The block must exist. */
static int qcow2_count_put(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
    struct qcow2_slot *s;
    uint64_t block;
    int r = qcow2_block_of(q, cluster, &block);
    if (r || !block)
        return r ? r : qcow2_damaged(q, true, "a refcount block is missing", cluster << q->cluster_bits);
    if ((r = qcow2_cache_get(q, &q->refcounts, block, true, &s)))
        return r;
    qcow2_count_store(q, s->data, cluster & ((UINT64_C(1) << q->block_bits) - 1), value);
    qcow2_slot_dirty(&q->refcounts, s);
    return 0;
}

/* Lowers the counts of clusters that nothing on disk names any more. */
static int qcow2_release(struct qcow2 *q, uint64_t first, uint64_t count)
{
    uint64_t i, value, freed = 0;
    int r = 0;
    for (i = first; !r && i < first + count; i++) {
        r = qcow2_count_get(q, i, &value);
        if (!r && !value)
            r = qcow2_damaged(q, true, "a cluster in use has reference count 0", i << q->cluster_bits);
        if (!r)
            r = qcow2_count_put(q, i, value - 1);
        if (!r && value == 1) {
            q->free_hint = EMU_MIN(q->free_hint, i);
            freed++;
        }
    }
    if (!r && freed == count && (q->img->flags & IMAGE_UNMAP))
        host_file_discard(q->img->file, first << q->cluster_bits, count << q->cluster_bits); /* a hint: failure is no loss */
    return r;
}

/* Notes clusters whose entries were just overwritten in a cache. Without memory for the note they leak, which is no damage. */
static void qcow2_let_go(struct qcow2 *q, uint64_t first, uint64_t count)
{
    struct qcow2_extent *last = q->pending_count ? &q->pending[q->pending_count - 1] : NULL;
    if (last && last->first + last->count == first) {
        last->count += count;
        return;
    }
    if (q->pending_count == q->pending_capacity) {
        size_t capacity = q->pending_capacity ? q->pending_capacity * 2 : 64;
        struct qcow2_extent *p = emu_realloc(q->img->emu, q->pending, capacity * sizeof *p);
        if (!p)
            return;
        q->pending = p;
        q->pending_capacity = capacity;
    }
    q->pending[q->pending_count].first = first;
    q->pending[q->pending_count++].count = count;
}

static int qcow2_write_l1(struct qcow2 *q)
{
    uint8_t bytes[4096];
    int r = 0;
    while (!r && q->l1_dirty_first < q->l1_dirty_end) {
        uint32_t n = EMU_MIN(q->l1_dirty_end - q->l1_dirty_first, (uint32_t)(sizeof bytes / 8)), i;
        for (i = 0; i < n; i++)
            st64be(bytes + i * 8, q->l1[q->l1_dirty_first + i]);
        r = qcow2_put(q, q->l1_offset + (uint64_t)q->l1_dirty_first * 8, bytes, (size_t)n * 8);
        if (!r)
            q->l1_dirty_first += n;
    }
    return r;
}

/* The chain of the head comment. */
static int qcow2_flush_tables(struct qcow2 *q)
{
    size_t i, n;
    int r;
    if (q->corrupt)
        return EMU_EIO;
    r = qcow2_cache_write(q, &q->refcounts);
    if (!r && q->l2.dirty && !(r = qcow2_sync(q)))
        r = qcow2_cache_write(q, &q->l2);
    if (!r && q->l1_dirty_first < q->l1_dirty_end && !(r = qcow2_sync(q)))
        r = qcow2_write_l1(q);
    if (r || !q->pending_count || (r = qcow2_sync(q)))
        return r;
    n = q->pending_count;
    q->pending_count = 0;
    for (i = 0; !r && i < n; i++)
        r = qcow2_release(q, q->pending[i].first, q->pending[i].count);
    return r;
}

/* ---- taking clusters ---- */

/* The first run of n clusters with count 0 at or behind `start`. */
static int qcow2_scan_free(struct qcow2 *q, uint64_t start, uint64_t n, uint64_t *first)
{
    uint64_t end = start, limit = (UINT64_C(1) << 56) >> q->cluster_bits;
    if (q->fixed_end)
        limit = EMU_MIN(limit, q->file_end >> q->cluster_bits);
    while (end - start < n) {
        uint64_t block, value;
        int r;
        if (end >= limit)
            return EMU_ENOSPC;
        if ((r = qcow2_block_of(q, end, &block)))
            return r;
        if (!block) { /* a whole block of zeros */
            end = ((end >> q->block_bits) + 1) << q->block_bits;
        } else {
            if ((r = qcow2_count_get(q, end, &value)))
                return r;
            end++;
            if (value)
                start = end;
        }
    }
    if (start + n > limit)
        return EMU_ENOSPC;
    *first = start;
    return 0;
}

static int qcow2_find_free(struct qcow2 *q, uint64_t n, uint64_t *first)
{
    int r = qcow2_scan_free(q, q->free_hint, n, first);
    if (r == EMU_ENOSPC && q->free_hint) { /* a device is full behind the hint: what was skipped before it may do */
        q->free_hint = 0;
        r = qcow2_scan_free(q, 0, n, first);
    }
    return r;
}

/* A larger refcount table behind everything that the present one covers, with the blocks that count it and themselves. */
static int qcow2_grow_refcount_table(struct qcow2 *q, uint64_t need_entries)
{
    uint64_t start = (uint64_t)q->rt_entries << q->block_bits, blocks = 1, clusters, entries, i, first_block, old_offset = q->rt_offset;
    uint64_t per_cluster = q->cluster_size / 8, old_clusters = ((uint64_t)q->rt_entries * 8 + q->cluster_size - 1) >> q->cluster_bits, file_clusters;
    uint64_t *rt;
    uint8_t *buf = NULL, header[12];
    int r = 0;
    file_clusters = (q->file_end + q->cluster_size - 1) >> q->cluster_bits;
    if (!q->fixed_end)
        start = EMU_MAX(start, file_clusters);
    first_block = start >> q->block_bits;
    for (;;) { /* until the new blocks count table and blocks, and the table lists them */
        uint64_t last;
        entries = EMU_MAX(EMU_MAX(need_entries, (uint64_t)q->rt_entries + q->rt_entries / 2 + 1), first_block + blocks);
        clusters = (entries + per_cluster - 1) / per_cluster;
        entries = clusters * per_cluster;
        last = (start + clusters + blocks - 1) >> q->block_bits;
        if (last - first_block + 1 <= blocks && first_block + blocks <= entries)
            break;
        blocks = EMU_MAX(blocks + 1, last - first_block + 1);
    }
    if (clusters << q->cluster_bits > QCOW2_REFTABLE_MAX_BYTES || (q->fixed_end && (start + clusters + blocks) << q->cluster_bits > q->file_end))
        return EMU_ENOSPC;
    rt = emu_alloc(q->img->emu, (size_t)entries * sizeof *rt);
    buf = emu_alloc(q->img->emu, EMU_MAX((size_t)entries * 8, (size_t)q->cluster_size));
    if (!rt || !buf)
        r = EMU_ENOMEM;
    if (!r) {
        memcpy(rt, q->rt, (size_t)q->rt_entries * sizeof *rt);
        for (i = 0; i < blocks; i++)
            rt[first_block + i] = (start + clusters + i) << q->cluster_bits;
        r = qcow2_cache_write(q, &q->refcounts);
    }
    for (i = 0; !r && i < blocks; i++) {
        uint64_t c, base = (first_block + i) << q->block_bits;
        memset(buf, 0, q->cluster_size);
        for (c = start; c < start + clusters + blocks; c++)
            if (c >= base && c - base < UINT64_C(1) << q->block_bits)
                qcow2_count_store(q, buf, c - base, 1);
        r = qcow2_put(q, rt[first_block + i], buf, q->cluster_size);
    }
    if (!r) {
        for (i = 0; i < entries; i++)
            st64be(buf + i * 8, rt[i]);
        r = qcow2_put(q, start << q->cluster_bits, buf, (size_t)entries * 8);
    }
    for (i = 0; !r && i < blocks; i++)
        r = qcow2_meta_add(q, start + clusters + i);
    if (!r && !(r = qcow2_sync(q))) {
        st64be(header, start << q->cluster_bits);
        st32be(header + 8, (uint32_t)clusters);
        r = qcow2_put(q, QCOW2_H_RT_OFFSET, header, sizeof header);
    }
    emu_free(q->img->emu, buf);
    if (r) {
        for (i = 0; i < blocks; i++)
            qcow2_meta_remove(q, start + clusters + i);
        emu_free(q->img->emu, rt);
        return r;
    }
    emu_free(q->img->emu, q->rt); /* the header names the new one: from here on it is the table, whatever else fails */
    q->rt = rt;
    q->rt_entries = (uint32_t)entries;
    q->rt_offset = start << q->cluster_bits;
    r = qcow2_sync(q);
    return r ? r : qcow2_release(q, old_offset >> q->cluster_bits, old_clusters);
}

/* Makes refcount block number i. It may be placed into a cluster that it counts itself. */
static int qcow2_add_block(struct qcow2 *q, uint64_t i)
{
    uint64_t cluster, home, offset;
    uint8_t *buf, entry[8];
    bool counted = false;
    int r;
    if (i >= q->rt_entries)
        return qcow2_grow_refcount_table(q, i + 1);
    if ((r = qcow2_find_free(q, 1, &cluster)))
        return r;
    home = cluster >> q->block_bits;
    if (home != i && (home >= q->rt_entries || !q->rt[home])) {
        if ((r = qcow2_add_block(q, home)) || (r = qcow2_find_free(q, 1, &cluster)))
            return r;
        home = cluster >> q->block_bits;
        if (i < q->rt_entries && q->rt[i])
            return 0;
        if (home >= q->rt_entries || (home != i && !q->rt[home]))
            return EMU_ENOSPC; /* a block was just made and is full at once: the image is laid out beyond reason */
    }
    offset = cluster << q->cluster_bits;
    if (qcow2_hits_meta(q, offset, q->cluster_size))
        return qcow2_damaged(q, true, "a table's cluster is counted as free", offset);
    buf = emu_alloc(q->img->emu, q->cluster_size);
    if (!buf)
        return EMU_ENOMEM;
    if (home == i)
        qcow2_count_store(q, buf, cluster & ((UINT64_C(1) << q->block_bits) - 1), 1);
    else if ((counted = !(r = qcow2_count_put(q, cluster, 1))))
        r = qcow2_cache_write(q, &q->refcounts);
    if (!r)
        r = qcow2_put(q, offset, buf, q->cluster_size);
    emu_free(q->img->emu, buf);
    if (!r)
        r = qcow2_sync(q);
    if (!r && !(r = qcow2_meta_add(q, cluster))) {
        st64be(entry, offset);
        if ((r = qcow2_put(q, q->rt_offset + i * 8, entry, 8)))
            qcow2_meta_remove(q, cluster);
    }
    if (!r) {
        q->rt[i] = offset;
        q->free_hint = EMU_MAX(q->free_hint, cluster + 1);
    } else if (counted) {
        qcow2_release(q, cluster, 1); /* nothing names it */
    }
    return r;
}

/* n clusters in one run, with count 1. */
static int qcow2_take(struct qcow2 *q, uint64_t n, uint64_t *offset)
{
    uint64_t first = 0, i, tries;
    int r = 0;
    for (tries = 0; tries < 1000; tries++) {
        bool complete = true;
        if ((r = qcow2_find_free(q, n, &first)))
            return r;
        for (i = first >> q->block_bits; complete && i <= (first + n - 1) >> q->block_bits; i++)
            if (i >= q->rt_entries || !q->rt[i]) {
                if ((r = qcow2_add_block(q, i)))
                    return r;
                complete = false; /* it may have taken what we found */
            }
        if (complete)
            break;
    }
    if (tries == 1000)
        return EMU_ENOSPC;
    if (qcow2_hits_meta(q, first << q->cluster_bits, n << q->cluster_bits))
        return qcow2_damaged(q, true, "a table's cluster is counted as free", first << q->cluster_bits);
    for (i = 0; !r && i < n; i++)
        r = qcow2_count_put(q, first + i, 1);
    if (r)
        return r;
    q->free_hint = first + n; /* smaller gaps before it are found again when something before them is let go, or by the next run */
    *offset = first << q->cluster_bits;
    return 0;
}

/* ---- from guest to host ---- */

enum qcow2_kind { QCOW2_UNALLOCATED, QCOW2_ZEROS, QCOW2_NORMAL, QCOW2_DEFLATED, QCOW2_BAD };

static enum qcow2_kind qcow2_classify(const struct qcow2 *q, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    if (entry & QCOW2_COMPRESSED)
        return QCOW2_DEFLATED;
    if (offset & (q->cluster_size - 1))
        return QCOW2_BAD;
    if (entry & QCOW2_ZERO)
        return q->version >= 3 ? QCOW2_ZEROS : QCOW2_BAD;
    return offset ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

/* Where a compressed cluster's bytes lie: [offset, offset + size). */
static void qcow2_deflated_extent(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint32_t *size)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> x;
    *offset = entry & ((UINT64_C(1) << x) - 1);
    *size = (uint32_t)((sectors + 1) * 512 - (*offset & 511));
}

/* Offset of the L2 table for a guest offset; 0: there is none. */
static int qcow2_l2_of(struct qcow2 *q, uint64_t guest, uint64_t *l2, bool *copied)
{
    uint64_t i = guest >> (q->cluster_bits + q->l2_bits), entry = i < q->l1_size ? q->l1[i] : 0;
    *l2 = entry & QCOW2_OFFSET_MASK;
    *copied = entry >> 63;
    if (*l2 && ((*l2 & (q->cluster_size - 1)) || (*l2 >= q->file_end && !qcow2_meta_has(q, *l2 >> q->cluster_bits)))) /* a new one may be in the cache only */
        return qcow2_damaged(q, true, "an L1 entry points to no L2 table", q->l1_offset + i * 8);
    return 0;
}

static int qcow2_read_below(struct qcow2 *q, uint64_t guest, uint8_t *p, size_t size)
{
    if (q->img->backing)
        return image_read_padded(q->img->backing, guest, p, size);
    memset(p, 0, size);
    return 0;
}

static int qcow2_inflate_cluster(struct qcow2 *q, uint64_t entry)
{
    struct emu *e = q->img->emu;
    uint64_t offset;
    uint32_t size;
    uint8_t *in;
    size_t produced = 0;
    int r;
    if (q->inflated && q->inflated_entry == entry)
        return 0;
    if (!q->inflated && !(q->inflated = emu_alloc(e, q->cluster_size)))
        return EMU_ENOMEM;
    q->inflated_entry = 0;
    qcow2_deflated_extent(q, entry, &offset, &size);
    if (offset >= q->file_end)
        return qcow2_damaged(q, false, "a compressed cluster lies behind the file's end; was the image cut off?", offset);
    in = emu_alloc(e, size);
    if (!in)
        return EMU_ENOMEM;
    r = host_file_read(q->img->file, offset, in, size);
    if (!r) {
        r = inflate_raw(in, size, q->inflated, q->cluster_size, &produced, NULL);
        if (produced == q->cluster_size)
            r = 0;
        else
            r = qcow2_damaged(q, false, "a compressed cluster can't be unpacked", offset);
    }
    emu_free(e, in);
    if (!r)
        q->inflated_entry = entry;
    return r;
}

/* Reads a range whose clusters are of one kind; entry: of the first. */
static int qcow2_read_run(struct qcow2 *q, uint64_t guest, uint64_t entry, uint8_t *p, size_t size)
{
    uint32_t in = (uint32_t)(guest & (q->cluster_size - 1));
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    int r;
    switch (qcow2_classify(q, entry)) {
    case QCOW2_UNALLOCATED:
        return qcow2_read_below(q, guest, p, size);
    case QCOW2_ZEROS:
        memset(p, 0, size);
        return 0;
    case QCOW2_NORMAL:
        if (offset >= q->file_end)
            return qcow2_damaged(q, false, "a cluster lies behind the file's end; was the image cut off?", offset);
        return host_file_read(q->img->file, offset + in, p, size);
    case QCOW2_DEFLATED:
        r = qcow2_inflate_cluster(q, entry);
        if (!r)
            memcpy(p, q->inflated + in, size);
        return r;
    default:
        return qcow2_damaged(q, true, "an L2 entry makes no sense", entry);
    }
}

static int qcow2_read_guest(struct qcow2 *q, uint64_t guest, uint8_t *p, size_t size)
{
    int r = 0;
    while (size && !r) {
        uint32_t in = (uint32_t)(guest & (q->cluster_size - 1)), entries = UINT32_C(1) << q->l2_bits;
        uint32_t i = (uint32_t)(guest >> q->cluster_bits) & (entries - 1);
        uint64_t l2, entry = 0, run = q->cluster_size - in;
        bool copied;
        if ((r = qcow2_l2_of(q, guest, &l2, &copied)))
            break;
        if (!l2) {
            run = ((uint64_t)(entries - i) << q->cluster_bits) - in;
        } else {
            struct qcow2_slot *s;
            enum qcow2_kind kind;
            if ((r = qcow2_cache_get(q, &q->l2, l2, true, &s)))
                break;
            entry = ld64be(s->data + i * 8);
            kind = qcow2_classify(q, entry);
            while (run < size && ++i < entries && kind != QCOW2_DEFLATED) {
                uint64_t next = ld64be(s->data + i * 8);
                if (qcow2_classify(q, next) != kind || (kind == QCOW2_NORMAL && (next & QCOW2_OFFSET_MASK) != (entry & QCOW2_OFFSET_MASK) + in + run))
                    break;
                run += q->cluster_size;
            }
        }
        run = EMU_MIN(run, (uint64_t)size);
        r = qcow2_read_run(q, guest, entry, p, (size_t)run);
        guest += run;
        p += run;
        size -= (size_t)run;
    }
    return r;
}

/* The L2 table for a guest offset, ours alone (COPIED) afterwards. */
static int qcow2_l2_for_write(struct qcow2 *q, uint64_t guest, uint64_t *l2)
{
    uint32_t i = (uint32_t)(guest >> (q->cluster_bits + q->l2_bits));
    struct qcow2_slot *s;
    uint64_t old;
    bool copied;
    int r = qcow2_l2_of(q, guest, &old, &copied);
    if (r || (copied && old)) {
        *l2 = old;
        if (!r && !qcow2_meta_has(q, old >> q->cluster_bits))
            r = qcow2_damaged(q, true, "an L2 table is used twice", old);
        return r;
    }
    if (old && (r = host_file_read(q->img->file, old, q->bounce, q->cluster_size)))
        return r;
    if ((r = qcow2_take(q, 1, l2)) || (r = qcow2_cache_get(q, &q->l2, *l2, false, &s)))
        return r;
    if (old)
        memcpy(s->data, q->bounce, q->cluster_size); /* a shared table is never dirty: the file has it */
    else
        memset(s->data, 0, q->cluster_size);
    qcow2_slot_dirty(&q->l2, s);
    if ((r = qcow2_meta_add(q, *l2 >> q->cluster_bits)))
        return r;
    if (old) {
        qcow2_meta_remove(q, old >> q->cluster_bits);
        qcow2_let_go(q, old >> q->cluster_bits, 1);
    }
    q->l1[i] = *l2 | QCOW2_COPIED;
    if (q->l1_dirty_first == q->l1_dirty_end) {
        q->l1_dirty_first = i;
        q->l1_dirty_end = i + 1;
    } else {
        q->l1_dirty_first = EMU_MIN(q->l1_dirty_first, i);
        q->l1_dirty_end = EMU_MAX(q->l1_dirty_end, i + 1);
    }
    return 0;
}

/* The clusters of an entry that was just replaced in the cache. */
static void qcow2_free_entry(struct qcow2 *q, uint64_t entry)
{
    if (qcow2_classify(q, entry) == QCOW2_DEFLATED) {
        uint64_t offset, first;
        uint32_t size;
        qcow2_deflated_extent(q, entry, &offset, &size);
        first = offset >> q->cluster_bits;
        qcow2_let_go(q, first, ((offset + size - 1) >> q->cluster_bits) - first + 1);
    } else if (entry & QCOW2_OFFSET_MASK) {
        qcow2_let_go(q, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, 1);
    }
}

/* ---- writing ---- */

/* May the cluster be written where it is? */
static bool qcow2_in_place(const struct qcow2 *q, uint64_t entry) { return (entry & QCOW2_COPIED) && qcow2_classify(q, entry) == QCOW2_NORMAL; }

/* Bytes of new clusters that the guest did not write: what it sees there now. fresh: the file is zeros there already. */
static int qcow2_fill(struct qcow2 *q, uint64_t guest, uint64_t host, uint32_t size, bool fresh)
{
    int r = size ? qcow2_read_guest(q, guest, q->bounce, size) : 0;
    if (r || !size || (fresh && image_all_zero(q->bounce, size)))
        return r;
    return qcow2_put(q, host, q->bounce, size);
}

/* Writes data into new clusters [host, ...), whose first is to hold guest cluster (guest & ~mask). */
static int qcow2_write_new(struct qcow2 *q, uint64_t guest, uint64_t host, uint64_t count, const uint8_t *p, size_t size)
{
    uint32_t head = (uint32_t)(guest & (q->cluster_size - 1));
    uint64_t host_end = host + (count << q->cluster_bits), guest_end = guest + size;
    uint32_t tail = (uint32_t)((q->cluster_size - (guest_end & (q->cluster_size - 1))) & (q->cluster_size - 1));
    bool fresh = !q->fixed_end && host >= q->file_end;
    int r;
    if (count == 1 && !fresh && (head || tail)) { /* one write instead of three */
        r = qcow2_read_guest(q, guest - head, q->bounce, q->cluster_size);
        if (r)
            return r;
        memcpy(q->bounce + head, p, size);
        return qcow2_put(q, host, q->bounce, q->cluster_size);
    }
    if (fresh && (head || tail)) { /* the file gets its new end first, so that what is skipped reads as zeros */
        r = host_file_resize(q->img->file, host_end);
        if (r)
            return r;
        q->file_end = host_end;
        q->unsynced = true;
    }
    r = qcow2_put(q, host + head, p, size);
    if (!r)
        r = qcow2_fill(q, guest - head, host, head, fresh);
    if (!r)
        r = qcow2_fill(q, guest_end, host_end - tail, tail, fresh);
    return r;
}

static int qcow2_write_allocating(struct qcow2 *q, uint64_t l2, uint32_t index, uint64_t count, uint64_t guest, const uint8_t *p, size_t size)
{
    struct qcow2_slot *s;
    uint64_t host, i;
    int r = qcow2_take(q, count, &host);
    if (r)
        return r;
    r = qcow2_write_new(q, guest, host, count, p, size);
    if (!r)
        r = qcow2_cache_get(q, &q->l2, l2, true, &s);
    if (r) { /* nothing names them yet */
        qcow2_release(q, host >> q->cluster_bits, count);
        return r;
    }
    for (i = 0; i < count; i++) {
        uint8_t *entry = s->data + (index + i) * 8;
        uint64_t old = ld64be(entry);
        st64be(entry, (host + (i << q->cluster_bits)) | QCOW2_COPIED);
        qcow2_free_entry(q, old);
    }
    qcow2_slot_dirty(&q->l2, s);
    return 0;
}

static int qcow2_write(struct image *img, uint64_t guest, const void *buf, size_t size)
{
    struct qcow2 *q = img->state;
    const uint8_t *p = buf;
    int r = q->corrupt ? EMU_EIO : 0;
    while (size && !r) {
        uint32_t in = (uint32_t)(guest & (q->cluster_size - 1)), entries = UINT32_C(1) << q->l2_bits;
        uint32_t i = (uint32_t)(guest >> q->cluster_bits) & (entries - 1), count = 1;
        uint64_t l2, entry, run = q->cluster_size - in;
        struct qcow2_slot *s;
        bool in_place;
        if ((r = qcow2_l2_for_write(q, guest, &l2)) || (r = qcow2_cache_get(q, &q->l2, l2, true, &s)))
            break;
        entry = ld64be(s->data + i * 8);
        in_place = qcow2_in_place(q, entry);
        if (qcow2_classify(q, entry) == QCOW2_BAD) {
            r = qcow2_damaged(q, true, "an L2 entry makes no sense", entry);
            break;
        }
        while (run < size && run < QCOW2_RUN_MAX_BYTES && i + count < entries) {
            uint64_t next = ld64be(s->data + (i + count) * 8);
            if (qcow2_in_place(q, next) != in_place || qcow2_classify(q, next) == QCOW2_BAD)
                break;
            if (in_place && (next & QCOW2_OFFSET_MASK) != (entry & QCOW2_OFFSET_MASK) + ((uint64_t)count << q->cluster_bits))
                break;
            run += q->cluster_size;
            count++;
        }
        run = EMU_MIN(run, (uint64_t)size);
        if (in_place) {
            uint64_t host = entry & QCOW2_OFFSET_MASK;
            if (qcow2_hits_meta(q, host, (uint64_t)count << q->cluster_bits))
                r = qcow2_damaged(q, true, "a data cluster lies on a table", host);
            else if (host >= q->file_end)
                r = qcow2_damaged(q, true, "a cluster lies behind the file's end; was the image cut off?", host);
            else
                r = qcow2_put(q, host + in, p, (size_t)run);
        } else {
            r = qcow2_write_allocating(q, l2, i, count, guest, p, (size_t)run);
        }
        guest += run;
        p += run;
        size -= (size_t)run;
    }
    return r;
}

static int qcow2_read(struct image *img, uint64_t guest, void *buf, size_t size) { return qcow2_read_guest(img->state, guest, buf, size); }

static int qcow2_flush(struct image *img)
{
    struct qcow2 *q = img->state;
    int r = qcow2_flush_tables(q);
    return r ? r : qcow2_sync(q);
}

/* ---- discard and zeros ---- */

enum qcow2_clear { QCOW2_CLEAR_DISCARD, QCOW2_CLEAR_ZERO, QCOW2_CLEAR_ZERO_UNMAP };

/* The entry that replaces old; below: a backing file may show through an unallocated cluster. */
static uint64_t qcow2_cleared_entry(const struct qcow2 *q, uint64_t old, enum qcow2_clear how, bool below)
{
    enum qcow2_kind kind = qcow2_classify(q, old);
    if (kind == QCOW2_BAD || (kind == QCOW2_UNALLOCATED && (how == QCOW2_CLEAR_DISCARD || !below)))
        return old;
    if (q->version < 3)
        return below ? old : 0; /* no zero flag: a discard behind a backing file is not done */
    if (how == QCOW2_CLEAR_ZERO && kind == QCOW2_ZEROS)
        return old;
    if (how == QCOW2_CLEAR_ZERO && qcow2_in_place(q, old))
        return old | QCOW2_ZERO; /* the cluster stays ours */
    return below ? QCOW2_ZERO : 0;
}

/* Whole clusters [guest, end). */
static int qcow2_clear_clusters(struct qcow2 *q, uint64_t guest, uint64_t end, enum qcow2_clear how)
{
    int r = 0;
    while (guest < end && !r) {
        uint32_t entries = UINT32_C(1) << q->l2_bits, i = (uint32_t)(guest >> q->cluster_bits) & (entries - 1), n;
        uint64_t span = EMU_MIN((uint64_t)(entries - i) << q->cluster_bits, end - guest), l2;
        bool below = q->img->backing && guest < q->img->backing->size_bytes, copied, change = false;
        struct qcow2_slot *s;
        if ((r = qcow2_l2_of(q, guest, &l2, &copied)))
            break;
        if (!l2 && (how == QCOW2_CLEAR_DISCARD || !below)) { /* nothing there, and nothing shines through */
            guest += span;
            continue;
        }
        n = (uint32_t)((span + q->cluster_size - 1) >> q->cluster_bits);
        if (l2) { /* don't copy a shared table for nothing */
            uint32_t k;
            if ((r = qcow2_cache_get(q, &q->l2, l2, true, &s)))
                break;
            for (k = 0; k < n && !change; k++) {
                uint64_t old = ld64be(s->data + (i + k) * 8);
                change = qcow2_cleared_entry(q, old, how, below) != old;
            }
        }
        if (!l2 || change) {
            uint32_t k;
            if ((r = qcow2_l2_for_write(q, guest, &l2)) || (r = qcow2_cache_get(q, &q->l2, l2, true, &s)))
                break;
            for (k = 0; k < n; k++) {
                uint64_t old = ld64be(s->data + (i + k) * 8), now = qcow2_cleared_entry(q, old, how, below);
                if (now == old)
                    continue;
                st64be(s->data + (i + k) * 8, now);
                if ((now & QCOW2_OFFSET_MASK) != (old & QCOW2_OFFSET_MASK) || (old & QCOW2_COMPRESSED))
                    qcow2_free_entry(q, old);
            }
            qcow2_slot_dirty(&q->l2, s);
        }
        guest += span;
    }
    return r;
}

/* The part of a range that consists of whole clusters; the image's end counts as a border. */
static void qcow2_whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t size, uint64_t *first, uint64_t *end)
{
    uint64_t mask = q->cluster_size - 1;
    *first = (offset + mask) & ~mask;
    *end = offset + size == q->img->size_bytes ? (offset + size + mask) & ~mask : (offset + size) & ~mask;
    if (*first > *end)
        *end = *first;
}

static int qcow2_discard(struct image *img, uint64_t offset, uint64_t size)
{
    struct qcow2 *q = img->state;
    uint64_t first, end;
    if (q->corrupt)
        return EMU_EIO;
    qcow2_whole_clusters(q, offset, size, &first, &end);
    return qcow2_clear_clusters(q, first, end, QCOW2_CLEAR_DISCARD);
}

static int qcow2_write_zeroes(struct image *img, uint64_t offset, uint64_t size, bool unmap)
{
    struct qcow2 *q = img->state;
    static const uint8_t zeros[65536];
    uint64_t first, end, stop = offset + size;
    int r = 0;
    if (q->corrupt)
        return EMU_EIO;
    if (q->version < 3 && q->img->backing)
        return EMU_ENOTSUP;
    qcow2_whole_clusters(q, offset, size, &first, &end);
    if (first == end)
        first = end = stop;
    while (!r && offset < first) {
        size_t n = (size_t)EMU_MIN(first - offset, (uint64_t)sizeof zeros);
        r = qcow2_write(img, offset, zeros, n);
        offset += n;
    }
    if (!r)
        r = qcow2_clear_clusters(q, first, end, unmap ? QCOW2_CLEAR_ZERO_UNMAP : QCOW2_CLEAR_ZERO);
    for (offset = end; !r && offset < stop;) {
        size_t n = (size_t)EMU_MIN(stop - offset, (uint64_t)sizeof zeros);
        r = qcow2_write(img, offset, zeros, n);
        offset += n;
    }
    return r;
}

/* ---- opening ---- */

static bool qcow2_probe(const uint8_t *head, size_t size) { return size >= 8 && ld32be(head) == QCOW2_MAGIC && ld32be(head + QCOW2_H_VERSION) >= 2; }

static int qcow2_close(struct image *img)
{
    struct qcow2 *q = img->state;
    struct emu *e = img->emu;
    int r = 0;
    if (!img->read_only && !q->corrupt && q->rt) {
        r = qcow2_flush_tables(q);
        if (!r && (q->refcounts.dirty || q->pending_count)) /* counts that the first round lowered */
            r = qcow2_flush_tables(q);
        if (!r)
            r = qcow2_sync(q);
    }
    if (q->l2.slots)
        qcow2_cache_drop(q, &q->l2, true);
    if (q->refcounts.slots)
        qcow2_cache_drop(q, &q->refcounts, true);
    emu_free(e, q->l1);
    emu_free(e, q->rt);
    emu_free(e, q->snapshots);
    emu_free(e, q->meta);
    emu_free(e, q->pending);
    emu_free(e, q->bounce);
    emu_free(e, q->inflated);
    emu_free(e, q);
    img->state = NULL;
    return r;
}

static int qcow2_bad_header(struct qcow2 *q, struct err *err, const char *what, uint64_t value)
{
    return err_set(err, EMU_EFORMAT, "%s: damaged qcow2 image: %s (%" PRIu64 ")", q->img->path, what, value);
}

/* Feature bits that we don't know: by the name the image itself gives, or the number. */
static int qcow2_refuse_features(struct qcow2 *q, const uint8_t *cluster, uint32_t ext, uint32_t ext_end, uint64_t unknown, struct err *err)
{
    unsigned bit = ctz64(unknown);
    while (ext + 8 <= ext_end) {
        uint32_t type = ld32be(cluster + ext), size = ld32be(cluster + ext + 4), i;
        if (!type || size > ext_end - ext - 8)
            break;
        if (type == QCOW2_EXT_FEATURE_NAMES)
            for (i = 0; i + 48 <= size; i += 48) {
                const uint8_t *row = cluster + ext + 8 + i;
                if (row[0] == 0 && row[1] == bit)
                    return err_set(err, EMU_ENOTSUP, "%s: uses the qcow2 feature \"%.46s\", which is not supported; convert it with qemu-img convert", q->img->path, (const char *)row + 2);
            }
        ext += 8 + ((size + 7) & ~UINT32_C(7));
    }
    return err_set(err, EMU_ENOTSUP, "%s: uses qcow2 feature bit %u, which is not supported; convert it with qemu-img convert", q->img->path, bit);
}

static int qcow2_read_extensions(struct qcow2 *q, const uint8_t *cluster, uint32_t ext, uint32_t ext_end, struct err *err)
{
    struct emu *e = q->img->emu;
    while (ext + 8 <= ext_end) {
        uint32_t type = ld32be(cluster + ext), size = ld32be(cluster + ext + 4);
        if (!type)
            break;
        if (size > ext_end - ext - 8)
            return qcow2_bad_header(q, err, "a header extension is longer than the header", size);
        if (type == QCOW2_EXT_BACKING_FORMAT && size && size < 64 && !q->img->backing_format) {
            q->img->backing_format = emu_alloc(e, size + 1);
            if (!q->img->backing_format)
                return err_set(err, EMU_ENOMEM, "%s: out of memory", q->img->path);
            memcpy(q->img->backing_format, cluster + ext + 8, size);
        }
        ext += 8 + ((size + 7) & ~UINT32_C(7));
    }
    return 0;
}

static int qcow2_read_header(struct qcow2 *q, struct err *err)
{
    struct image *img = q->img;
    uint8_t h[QCOW2_HEADER_READ], *cluster;
    uint64_t backing, unknown, file_size;
    uint32_t backing_size, header_length = QCOW2_V2_HEADER, ext_end;
    int64_t size = host_file_size(img->file);
    int r = host_file_read(img->file, 0, h, sizeof h);
    if (size < 0 || r)
        return err_set(err, EMU_EIO, "%s: can't be read", img->path);
    file_size = (uint64_t)size;
    if (file_size < QCOW2_V2_HEADER || ld32be(h) != QCOW2_MAGIC)
        return err_set(err, EMU_EFORMAT, "%s: is not a qcow2 image%s", img->path, file_size < QCOW2_V2_HEADER ? ": too short" : "; if it is a plain disk say format=raw");
    q->version = ld32be(h + QCOW2_H_VERSION);
    if (q->version != 2 && q->version != 3)
        return err_set(err, EMU_ENOTSUP, "%s: qcow version %u is not supported; 2 and 3 are", img->path, q->version);
    q->file_end = file_size;
    q->fixed_end = host_file_is_device(img->file);
    q->cluster_bits = ld32be(h + QCOW2_H_CLUSTER_BITS);
    if (q->cluster_bits < QCOW2_MIN_CLUSTER_BITS || q->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
        return qcow2_bad_header(q, err, "its cluster size is not between 512 bytes and 2 MiB; as a power of two", q->cluster_bits);
    q->cluster_size = UINT32_C(1) << q->cluster_bits;
    q->l2_bits = q->cluster_bits - 3;
    q->size_bytes = ld64be(h + QCOW2_H_SIZE);
    q->l1_size = ld32be(h + QCOW2_H_L1_SIZE);
    q->l1_offset = ld64be(h + QCOW2_H_L1_OFFSET);
    q->rt_offset = ld64be(h + QCOW2_H_RT_OFFSET);
    q->snapshot_count = ld32be(h + QCOW2_H_SNAPSHOTS);
    q->snapshot_offset = ld64be(h + QCOW2_H_SNAPSHOT_OFFSET);
    q->refcount_order = 4;
    if (ld32be(h + QCOW2_H_CRYPT))
        return err_set(err, EMU_ENOTSUP, "%s: encrypted images are not supported; decrypt it with qemu-img convert", img->path);
    if (q->version >= 3) {
        q->incompatible = ld64be(h + QCOW2_H_INCOMPATIBLE);
        q->refcount_order = ld32be(h + QCOW2_H_REFCOUNT_ORDER);
        header_length = ld32be(h + QCOW2_H_HEADER_LENGTH);
        if (header_length < QCOW2_V3_HEADER || header_length > q->cluster_size || header_length > file_size)
            return qcow2_bad_header(q, err, "header length", header_length);
        if (q->refcount_order > 6)
            return qcow2_bad_header(q, err, "reference counts of more than 64 bits; as a power of two", q->refcount_order);
    }
    if (q->incompatible & QCOW2_INCOMPAT_DATA_FILE)
        return err_set(err, EMU_ENOTSUP, "%s: keeps its data in an external file (data_file), which is not supported; convert it with qemu-img convert", img->path);
    if (q->incompatible & QCOW2_INCOMPAT_EXTENDED_L2)
        return err_set(err, EMU_ENOTSUP, "%s: has extended L2 entries (extended_l2), which are not supported; convert it with qemu-img convert", img->path);
    if ((q->incompatible & QCOW2_INCOMPAT_COMPRESSION) && (header_length <= QCOW2_H_COMPRESSION || h[QCOW2_H_COMPRESSION] != 0))
        return err_set(err, EMU_ENOTSUP, "%s: is compressed with %s, which is not supported; convert it with qemu-img convert", img->path,
                       header_length > QCOW2_H_COMPRESSION && h[QCOW2_H_COMPRESSION] == 1 ? "zstd" : "an unknown method");
    unknown = q->incompatible & ~(uint64_t)(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_COMPRESSION);
    cluster = emu_alloc(img->emu, q->cluster_size);
    if (!cluster)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", img->path);
    r = host_file_read(img->file, 0, cluster, q->cluster_size);
    backing = ld64be(h + QCOW2_H_BACKING_OFFSET);
    backing_size = ld32be(h + QCOW2_H_BACKING_SIZE);
    ext_end = backing && backing < q->cluster_size ? (uint32_t)backing : q->cluster_size;
    if (r)
        err_set(err, r, "%s: can't be read", img->path);
    else if (unknown)
        r = qcow2_refuse_features(q, cluster, header_length, ext_end, unknown, err);
    else
        r = qcow2_read_extensions(q, cluster, header_length, ext_end, err);
    if (!r && backing && backing_size) {
        if (backing_size > 1023 || backing > q->cluster_size || backing_size > q->cluster_size - backing)
            r = qcow2_bad_header(q, err, "the name of its backing file is too long", backing_size);
        else if (!(img->backing_name = emu_alloc(img->emu, backing_size + 1)))
            r = err_set(err, EMU_ENOMEM, "%s: out of memory", img->path);
        else
            memcpy(img->backing_name, cluster + backing, backing_size);
    }
    emu_free(img->emu, cluster);
    return r;
}

/* A table of big-endian 64-bit numbers, checked against the file's size before memory is asked for. */
static int qcow2_load_table(struct qcow2 *q, uint64_t offset, uint32_t entries, uint64_t **out, const char *what, struct err *err)
{
    uint64_t bytes = (uint64_t)entries * 8, *t;
    uint32_t i;
    int r;
    if (offset & (q->cluster_size - 1))
        return qcow2_bad_header(q, err, what, offset);
    if (entries && (offset < q->cluster_size || offset > q->file_end || bytes > q->file_end - offset))
        return err_set(err, EMU_EFORMAT, "%s: damaged qcow2 image: its %s lies behind the file's end; was the image cut off?", q->img->path, what);
    t = emu_alloc(q->img->emu, (size_t)bytes + 8);
    if (!t)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", q->img->path);
    *out = t;
    r = host_file_read(q->img->file, offset, t, (size_t)bytes);
    if (r)
        return err_set(err, r, "%s: can't be read", q->img->path);
    for (i = 0; i < entries; i++)
        t[i] = ld64be(&t[i]);
    return 0;
}

static int qcow2_read_snapshots(struct qcow2 *q, struct err *err)
{
    uint64_t at = q->snapshot_offset;
    uint32_t i;
    if (!q->snapshot_count)
        return 0;
    if (q->snapshot_count > QCOW2_MAX_SNAPSHOTS || (at & (q->cluster_size - 1)) || at < q->cluster_size)
        return qcow2_bad_header(q, err, "its table of snapshots", q->snapshot_count);
    q->snapshots = emu_alloc(q->img->emu, q->snapshot_count * sizeof *q->snapshots);
    if (!q->snapshots)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", q->img->path);
    for (i = 0; i < q->snapshot_count; i++) {
        uint8_t h[QCOW2_SNAPSHOT_HEADER];
        int r;
        if (at > q->file_end || q->file_end - at < sizeof h)
            return qcow2_bad_header(q, err, "its table of snapshots lies behind the file's end", at);
        r = host_file_read(q->img->file, at, h, sizeof h);
        if (r)
            return err_set(err, r, "%s: can't be read", q->img->path);
        q->snapshots[i].first = ld64be(h);
        q->snapshots[i].count = ld32be(h + 8);
        if ((q->snapshots[i].first & (q->cluster_size - 1)) || q->snapshots[i].count * 8 > QCOW2_L1_MAX_BYTES)
            return qcow2_bad_header(q, err, "the L1 table of a snapshot", i);
        at += sizeof h + (uint64_t)ld32be(h + 36) + ld16be(h + 12) + ld16be(h + 14); /* extra data, id, name */
        at = (at + 7) & ~UINT64_C(7);
    }
    q->snapshot_bytes = at - q->snapshot_offset;
    return 0;
}

/* Before anything is written: every table stands where no other does. */
static int qcow2_check_tables(struct qcow2 *q, struct err *err)
{
    struct qcow2_extent fixed[4];
    uint32_t i, k;
    uint64_t mask = q->cluster_size - 1;
    const char *what = NULL;
    memset(fixed, 0, sizeof fixed);
    fixed[0].count = q->cluster_size;
    fixed[1].first = q->l1_offset;
    fixed[1].count = (uint64_t)q->l1_size * 8;
    fixed[2].first = q->rt_offset;
    fixed[2].count = (uint64_t)q->rt_entries * 8;
    fixed[3].first = q->snapshot_offset;
    fixed[3].count = q->snapshot_bytes;
    for (i = 0; i < 4; i++)
        for (k = 0; k < i; k++)
            if (qcow2_overlap(fixed[i].first, fixed[i].count, fixed[k].first, fixed[k].count))
                what = "header, L1 and refcount table overlap";
    for (i = 0; !what && i < q->rt_entries; i++) {
        uint64_t offset = q->rt[i];
        if (!offset)
            continue;
        if ((offset & mask) || offset >= q->file_end || qcow2_hits_meta(q, offset, q->cluster_size))
            what = "a refcount block lies on another table or outside";
        else if (qcow2_meta_add(q, offset >> q->cluster_bits))
            return err_set(err, EMU_ENOMEM, "%s: out of memory", q->img->path);
    }
    for (i = 0; !what && i < q->l1_size; i++) {
        uint64_t offset = q->l1[i] & QCOW2_OFFSET_MASK;
        if (!offset)
            continue;
        if ((offset & mask) || offset >= q->file_end || qcow2_hits_meta(q, offset, q->cluster_size))
            what = "an L2 table lies on another table or outside";
        else if (qcow2_meta_add(q, offset >> q->cluster_bits))
            return err_set(err, EMU_ENOMEM, "%s: out of memory", q->img->path);
    }
    if (what)
        return err_set(err, EMU_EFORMAT, "%s: damaged qcow2 image: %s; repair it with qemu-img check -r all, or look with readonly=on", q->img->path, what);
    return 0;
}

static int qcow2_prepare_writing(struct qcow2 *q, struct err *err)
{
    uint8_t zeros[8] = { 0 };
    int r;
    if (q->incompatible & QCOW2_INCOMPAT_CORRUPT)
        return err_set(err, EMU_EFORMAT, "%s: is marked as damaged and can only be read (readonly=on); repair it with: qemu-img check -r all", q->img->path);
    r = qcow2_check_tables(q, err);
    if (r)
        return r;
    if (q->version >= 3) { /* features that any writer who does not know them must clear */
        uint8_t autoclear[8];
        r = host_file_read(q->img->file, QCOW2_H_AUTOCLEAR, autoclear, 8);
        if (!r && ld64be(autoclear))
            r = qcow2_put(q, QCOW2_H_AUTOCLEAR, zeros, 8);
        if (r)
            return err_set(err, r, "%s: its header can't be written: %s", q->img->path, emu_strerror(r));
    }
    if (q->incompatible & QCOW2_INCOMPAT_DIRTY) {
        struct qcow2_check_result result;
        emu_log(q->img->emu, LOG_NOTICE, "%s: was not closed properly; its reference counts are made anew", q->img->path);
        r = qcow2_check(q->img, &result, true, err);
        if (r)
            return err_prefix(err, r, "%s: its reference counts can't be repaired", q->img->path);
    }
    return 0;
}

static int qcow2_open(struct image *img, struct err *err)
{
    struct qcow2 *q = emu_alloc(img->emu, sizeof *q);
    uint64_t need, rt_clusters;
    uint8_t h[4];
    int r;
    if (!q)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", img->path);
    q->img = img;
    img->state = q;
    r = qcow2_read_header(q, err);
    if (!r)
        r = host_file_read(img->file, QCOW2_H_RT_CLUSTERS, h, 4);
    if (!r) {
        q->block_bits = q->cluster_bits + 3 - q->refcount_order;
        rt_clusters = ld32be(h);
        if ((uint64_t)q->l1_size * 8 > QCOW2_L1_MAX_BYTES)
            r = qcow2_bad_header(q, err, "its L1 table is too long; entries", q->l1_size);
        else if (rt_clusters > QCOW2_REFTABLE_MAX_BYTES >> q->cluster_bits || !rt_clusters)
            r = qcow2_bad_header(q, err, "size of its refcount table", rt_clusters);
        else
            q->rt_entries = (uint32_t)(rt_clusters << (q->cluster_bits - 3));
    }
    if (!r) {
        need = (q->size_bytes >> (q->cluster_bits + q->l2_bits)) + ((q->size_bytes & ((UINT64_C(1) << (q->cluster_bits + q->l2_bits)) - 1)) != 0);
        if (q->size_bytes > (uint64_t)INT64_MAX - 512 || need > q->l1_size)
            r = qcow2_bad_header(q, err, "its size is more than its L1 table holds", q->size_bytes);
    }
    if (!r)
        r = qcow2_load_table(q, q->l1_offset, q->l1_size, &q->l1, "L1 table", err);
    if (!r)
        r = qcow2_load_table(q, q->rt_offset, q->rt_entries, &q->rt, "refcount table", err);
    if (!r)
        r = qcow2_read_snapshots(q, err);
    if (!r) {
        q->bounce = emu_alloc(img->emu, q->cluster_size);
        if (!q->bounce || qcow2_cache_create(q, &q->l2, QCOW2_L2_CACHE_BYTES) || qcow2_cache_create(q, &q->refcounts, QCOW2_REFCOUNT_CACHE_BYTES))
            r = err_set(err, EMU_ENOMEM, "%s: out of memory", img->path);
    }
    img->size_bytes = (q->size_bytes + 511) & ~UINT64_C(511);
    if (!r && !img->read_only)
        r = qcow2_prepare_writing(q, err);
    if (r) {
        q->corrupt = true; /* nothing is to be flushed */
        qcow2_close(img);
    }
    return r;
}

/* ---- resize, info ---- */

/* Moves the L1 table to where there is room for `entries`. */
static int qcow2_grow_l1(struct qcow2 *q, uint64_t entries, uint64_t size_bytes)
{
    uint64_t clusters = (entries * 8 + q->cluster_size - 1) >> q->cluster_bits, offset, old_offset = q->l1_offset, *l1;
    uint64_t old_clusters = ((uint64_t)q->l1_size * 8 + q->cluster_size - 1) >> q->cluster_bits;
    uint8_t header[24], *bytes;
    uint32_t i;
    int r;
    if (entries * 8 > QCOW2_L1_MAX_BYTES)
        return EMU_ERANGE;
    l1 = emu_alloc(q->img->emu, (size_t)entries * 8 + 8);
    bytes = emu_alloc(q->img->emu, (size_t)(clusters << q->cluster_bits));
    if (!l1 || !bytes) {
        emu_free(q->img->emu, l1);
        emu_free(q->img->emu, bytes);
        return EMU_ENOMEM;
    }
    memcpy(l1, q->l1, (size_t)q->l1_size * 8);
    for (i = 0; i < q->l1_size; i++)
        st64be(bytes + (size_t)i * 8, l1[i]);
    r = qcow2_take(q, clusters, &offset);
    if (!r)
        r = qcow2_put(q, offset, bytes, (size_t)(clusters << q->cluster_bits));
    if (!r)
        r = qcow2_flush_tables(q);
    if (!r)
        r = qcow2_sync(q);
    if (!r) {
        st64be(header, size_bytes);
        st32be(header + 8, 0);
        st32be(header + 12, (uint32_t)entries);
        st64be(header + 16, offset);
        r = qcow2_put(q, QCOW2_H_SIZE, header, sizeof header);
    }
    emu_free(q->img->emu, bytes);
    if (r) {
        emu_free(q->img->emu, l1);
        return r;
    }
    emu_free(q->img->emu, q->l1); /* the header names the new one */
    q->l1 = l1;
    q->l1_size = (uint32_t)entries;
    q->l1_offset = offset;
    if ((r = qcow2_sync(q)))
        return r;
    return old_clusters ? qcow2_release(q, old_offset >> q->cluster_bits, old_clusters) : 0;
}

static int qcow2_resize(struct image *img, uint64_t size, struct err *err)
{
    struct qcow2 *q = img->state;
    uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits), entries, old = img->size_bytes;
    uint8_t bytes[8];
    int r;
    if (q->corrupt || img->read_only)
        return err_set(err, EMU_EROFS, "%s: is read-only", img->path);
    if (size < q->size_bytes)
        return err_set(err, EMU_ENOTSUP, "%s: making a qcow2 image smaller is not supported", img->path);
    if (size > (uint64_t)INT64_MAX - span)
        return err_set(err, EMU_ERANGE, "%s: %" PRIu64 " bytes are too many", img->path, size);
    entries = EMU_MAX((size + span - 1) / span, (uint64_t)1);
    if (entries > q->l1_size) {
        r = qcow2_grow_l1(q, entries, size);
    } else {
        st64be(bytes, size);
        r = qcow2_put(q, QCOW2_H_SIZE, bytes, 8);
    }
    if (!r) {
        q->size_bytes = size;
        img->size_bytes = (size + 511) & ~UINT64_C(511);
        if (img->backing && img->backing->size_bytes > old) /* what the backing file has there was never the guest's */
            r = image_write_zeroes(img, old, EMU_MIN(img->size_bytes, img->backing->size_bytes) - old, true);
    }
    if (!r)
        r = qcow2_flush(img);
    return r ? err_set(err, r, "%s: can't be resized: %s", img->path, emu_strerror(r)) : 0;
}

static void qcow2_info(struct image *img, struct buf *out)
{
    struct qcow2 *q = img->state;
    buf_printf(out, "    Format:           qcow2 version %u, %u byte clusters, %u bit reference counts, %u snapshots%s\n", q->version, q->cluster_size,
               1u << q->refcount_order, q->snapshot_count, q->corrupt ? ", DAMAGED" : "");
}

EMU_PRIV const struct image_ops qcow2_ops = {
    "qcow2", qcow2_probe, qcow2_open, qcow2_close, qcow2_read, qcow2_write, qcow2_flush, qcow2_discard, qcow2_write_zeroes, qcow2_resize, qcow2_info,
};

/* ---- check and repair ---- */

struct qcow2_walk {
    struct qcow2 *q;
    uint32_t *refs; /* references found, per cluster */
    uint64_t clusters;
    struct qcow2_check_result *result;
    bool fix_copied; /* second round: COPIED must say exactly whether there is one reference */
    bool repair;
    uint8_t *table; /* one cluster */
};

static void qcow2_walk_refer(struct qcow2_walk *w, uint64_t offset, uint64_t bytes)
{
    uint64_t c, end;
    if (!bytes)
        return;
    end = (offset + bytes - 1) >> w->q->cluster_bits;
    for (c = offset >> w->q->cluster_bits; c <= end; c++) {
        if (c >= w->clusters) {
            w->result->errors++;
            return;
        }
        if (w->refs[c] < UINT32_MAX)
            w->refs[c]++;
    }
}

static bool qcow2_walk_copied(struct qcow2_walk *w, uint64_t *entry)
{
    uint64_t c = (*entry & QCOW2_OFFSET_MASK) >> w->q->cluster_bits;
    bool want = c < w->clusters && w->refs[c] == 1;
    if (want == (bool)(*entry >> 63))
        return false;
    *entry ^= QCOW2_COPIED;
    w->result->errors++;
    return true;
}

static int qcow2_walk_l2(struct qcow2_walk *w, uint64_t offset)
{
    struct qcow2 *q = w->q;
    uint32_t i;
    bool changed = false;
    int r = host_file_read(q->img->file, offset, w->table, q->cluster_size);
    for (i = 0; !r && i < UINT32_C(1) << q->l2_bits; i++) {
        uint64_t entry = ld64be(w->table + i * 8), at;
        uint32_t size;
        switch (qcow2_classify(q, entry)) {
        case QCOW2_UNALLOCATED:
            break;
        case QCOW2_DEFLATED:
            qcow2_deflated_extent(q, entry, &at, &size);
            if (!w->fix_copied)
                qcow2_walk_refer(w, at, size);
            break;
        case QCOW2_BAD:
            w->result->errors++;
            break;
        default:
            if (!(entry & QCOW2_OFFSET_MASK))
                break;
            if (!w->fix_copied) {
                qcow2_walk_refer(w, entry & QCOW2_OFFSET_MASK, q->cluster_size);
            } else if (qcow2_walk_copied(w, &entry)) {
                st64be(w->table + i * 8, entry);
                changed = true;
            }
        }
    }
    return !r && changed && w->repair ? qcow2_put(q, offset, w->table, q->cluster_size) : r;
}

static int qcow2_walk_l1(struct qcow2_walk *w, const uint64_t *l1, uint32_t entries)
{
    struct qcow2 *q = w->q;
    uint32_t i;
    int r = 0;
    for (i = 0; !r && i < entries; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;
        if (!offset)
            continue;
        if ((offset & (q->cluster_size - 1)) || offset >= q->file_end) {
            w->result->errors++;
            continue;
        }
        if (!w->fix_copied)
            qcow2_walk_refer(w, offset, q->cluster_size);
        r = qcow2_walk_l2(w, offset);
    }
    return r;
}

static int qcow2_walk_all(struct qcow2_walk *w, struct err *err)
{
    struct qcow2 *q = w->q;
    uint32_t i;
    int r;
    qcow2_walk_refer(w, 0, q->cluster_size);
    qcow2_walk_refer(w, q->l1_offset, (uint64_t)q->l1_size * 8);
    qcow2_walk_refer(w, q->rt_offset, (uint64_t)q->rt_entries * 8);
    qcow2_walk_refer(w, q->snapshot_offset, q->snapshot_bytes);
    for (i = 0; i < q->rt_entries; i++)
        if (q->rt[i])
            qcow2_walk_refer(w, q->rt[i] & ~UINT64_C(511), q->cluster_size);
    r = qcow2_walk_l1(w, q->l1, q->l1_size);
    for (i = 0; !r && i < q->snapshot_count; i++) {
        uint64_t *l1 = NULL;
        qcow2_walk_refer(w, q->snapshots[i].first, q->snapshots[i].count * 8);
        r = qcow2_load_table(q, q->snapshots[i].first, (uint32_t)q->snapshots[i].count, &l1, "L1 table of a snapshot", err);
        if (!r)
            r = qcow2_walk_l1(w, l1, (uint32_t)q->snapshots[i].count);
        emu_free(q->img->emu, l1);
    }
    return r;
}

/* Stored counts against found references. */
static int qcow2_compare_counts(struct qcow2_walk *w)
{
    struct qcow2 *q = w->q;
    uint64_t c, covered = (uint64_t)q->rt_entries << q->block_bits;
    int r = 0;
    for (c = 0; !r && c < EMU_MAX(w->clusters, covered); c++) {
        uint64_t stored, found = c < w->clusters ? w->refs[c] : 0, block;
        if ((r = qcow2_block_of(q, c, &block)))
            break;
        if (c >= w->clusters && qcow2_hits_meta(q, c << q->cluster_bits, q->cluster_size))
            continue; /* made by this very repair */
        if (!block && !found) {
            if (c >= w->clusters || !((c + 1) & ((UINT64_C(1) << q->block_bits) - 1)))
                c |= (UINT64_C(1) << q->block_bits) - 1; /* nothing counted in that block, and nothing to be */
            continue;
        }
        if ((r = qcow2_count_get(q, c, &stored)) || stored == found)
            continue;
        if (stored > found)
            w->result->leaks++;
        else
            w->result->errors++;
        if (!w->repair)
            continue;
        if (!block) {
            q->free_hint = EMU_MAX(q->free_hint, w->clusters); /* counts are not to be trusted before that */
            r = qcow2_add_block(q, c >> q->block_bits);
            covered = (uint64_t)q->rt_entries << q->block_bits;
        }
        if (!r)
            r = found > qcow2_count_max(q) ? EMU_ERANGE : qcow2_count_put(q, c, found);
    }
    return r;
}

EMU_PRIV int qcow2_check(struct image *img, struct qcow2_check_result *result, bool repair, struct err *err)
{
    struct qcow2 *q = img->state;
    struct qcow2_walk w;
    uint8_t bits[8];
    uint32_t i;
    int r = 0;
    memset(result, 0, sizeof *result);
    memset(&w, 0, sizeof w);
    if (!img->read_only && (r = qcow2_flush_tables(q)) == 0)
        r = qcow2_flush_tables(q);
    w.q = q;
    w.result = result;
    w.repair = repair && !img->read_only;
    w.clusters = (q->file_end + q->cluster_size - 1) >> q->cluster_bits;
    if (!r && w.clusters > UINT64_C(1) << 28)
        return err_set(err, EMU_ENOMEM, "%s: is too large for a check; use qemu-img check", img->path);
    w.refs = emu_alloc(img->emu, (size_t)(w.clusters + 1) * sizeof *w.refs);
    w.table = emu_alloc(img->emu, q->cluster_size);
    if (!w.refs || !w.table)
        r = EMU_ENOMEM;
    if (!r)
        r = qcow2_walk_all(&w, err);
    if (!r) {
        result->clusters = w.clusters;
        r = qcow2_compare_counts(&w);
    }
    if (!r) {
        w.fix_copied = true;
        for (i = 0; i < q->l1_size; i++)
            if (q->l1[i] & QCOW2_OFFSET_MASK)
                if (qcow2_walk_copied(&w, &q->l1[i])) {
                    if (!w.repair)
                        q->l1[i] ^= QCOW2_COPIED;
                    q->l1_dirty_first = 0;
                    q->l1_dirty_end = w.repair ? q->l1_size : 0;
                }
        r = qcow2_walk_l1(&w, q->l1, q->l1_size);
    }
    emu_free(img->emu, w.refs);
    emu_free(img->emu, w.table);
    if (!r && w.repair) {
        q->free_hint = 0;
        r = qcow2_flush_tables(q);
        qcow2_cache_drop(q, &q->l2, false);
        if (!r)
            r = qcow2_sync(q);
        if (!r && (q->incompatible & QCOW2_INCOMPAT_DIRTY)) {
            q->incompatible &= ~(uint64_t)QCOW2_INCOMPAT_DIRTY;
            st64be(bits, q->incompatible);
            r = qcow2_put(q, QCOW2_H_INCOMPATIBLE, bits, 8);
        }
    }
    return r ? err_set(err, r, "%s: check failed: %s", img->path, emu_strerror(r)) : 0;
}

/* ---- creation ---- */

/* Header, refcount table and one refcount block; the L1 table comes with the first resize. */
static int qcow2_write_empty(struct host_file *f, const struct qcow2_create_options *o, unsigned cluster_bits, unsigned order, uint8_t *cluster)
{
    uint64_t cs = UINT64_C(1) << cluster_bits;
    uint32_t at = o->version == 2 ? QCOW2_V2_HEADER : QCOW2_V3_HEADER + 8, i;
    struct qcow2 q;
    int r;
    memset(cluster, 0, (size_t)cs);
    st32be(cluster, QCOW2_MAGIC);
    st32be(cluster + QCOW2_H_VERSION, o->version == 2 ? 2 : 3);
    st32be(cluster + QCOW2_H_CLUSTER_BITS, cluster_bits);
    st64be(cluster + QCOW2_H_RT_OFFSET, cs);
    st32be(cluster + QCOW2_H_RT_CLUSTERS, 1);
    if (o->version != 2) {
        st64be(cluster + QCOW2_H_COMPATIBLE, o->lazy_refcounts ? QCOW2_COMPAT_LAZY : 0);
        st32be(cluster + QCOW2_H_REFCOUNT_ORDER, order);
        st32be(cluster + QCOW2_H_HEADER_LENGTH, at);
    }
    if (o->backing) {
        size_t n = strlen(o->backing), format = o->backing_format ? strlen(o->backing_format) : 0;
        if (format) {
            st32be(cluster + at, QCOW2_EXT_BACKING_FORMAT);
            st32be(cluster + at + 4, (uint32_t)format);
            memcpy(cluster + at + 8, o->backing_format, format);
            at += 8 + (((uint32_t)format + 7) & ~UINT32_C(7));
        }
        at += 8; /* the end of extensions */
        st64be(cluster + QCOW2_H_BACKING_OFFSET, at);
        st32be(cluster + QCOW2_H_BACKING_SIZE, (uint32_t)n);
        memcpy(cluster + at, o->backing, n);
    }
    r = host_file_write(f, 0, cluster, (size_t)cs);
    memset(cluster, 0, (size_t)cs);
    st64be(cluster, 2 * cs);
    if (!r)
        r = host_file_write(f, cs, cluster, (size_t)cs);
    memset(cluster, 0, (size_t)cs);
    memset(&q, 0, sizeof q);
    q.refcount_order = order;
    for (i = 0; i < 3; i++)
        qcow2_count_store(&q, cluster, i, 1);
    return r ? r : host_file_write(f, 2 * cs, cluster, (size_t)cs);
}

EMU_PRIV int qcow2_create(struct emu *e, const char *path, uint64_t size_bytes, const struct qcow2_create_options *options, struct err *err)
{
    struct qcow2_create_options o;
    struct host_file *f;
    struct image *img;
    unsigned bits, order;
    uint8_t *cluster;
    int r;
    memset(&o, 0, sizeof o);
    if (options)
        o = *options;
    bits = o.cluster_bits ? o.cluster_bits : 16;
    order = o.refcount_order_set ? o.refcount_order : 4;
    if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS || order > 6 || (o.version == 2 && (order != 4 || o.lazy_refcounts)) || o.version == 1 || o.version > 3)
        return err_set(err, EMU_EINVAL, "%s: no such qcow2 version, cluster size or width of reference counts", path);
    if (o.backing && (strlen(o.backing) > 1023 || strlen(o.backing) + (o.backing_format ? strlen(o.backing_format) : 0) + 160 > (size_t)1 << bits))
        return err_set(err, EMU_ERANGE, "%s: the name of the backing file is too long", path);
    cluster = emu_alloc(e, (size_t)1 << bits);
    if (!cluster)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    r = host_file_open(&f, path, HOST_OPEN_WRITE | HOST_OPEN_CREATE | HOST_OPEN_TRUNCATE, err);
    if (!r) {
        r = qcow2_write_empty(f, &o, bits, order, cluster);
        if (r)
            err_set(err, r, "%s: can't be written: %s", path, emu_strerror(r));
        host_file_close(f);
    }
    emu_free(e, cluster);
    if (!r)
        r = image_open(e, &img, path, "qcow2", IMAGE_WRITE | IMAGE_NO_BACKING, err);
    if (r)
        return r;
    r = qcow2_resize(img, size_bytes, err);
    if (image_close(img) && !r)
        r = err_set(err, EMU_EIO, "%s: can't be written", path);
    return r;
}
#undef QCOW2_MAGIC
#undef QCOW2_COPIED
#undef QCOW2_COMPRESSED
#undef QCOW2_ZERO
#undef QCOW2_OFFSET_MASK
#undef QCOW2_L1_MAX_BYTES
#undef QCOW2_REFTABLE_MAX_BYTES
#undef QCOW2_RUN_MAX_BYTES
#undef QCOW2_L2_CACHE_BYTES
#undef QCOW2_REFCOUNT_CACHE_BYTES
#undef QCOW2_EXT_BACKING_FORMAT
#undef QCOW2_EXT_FEATURE_NAMES
