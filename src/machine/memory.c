/* machine/memory.c - guest-physical memory and port space.
 *
 * Contract   Devices add regions (RAM windows or callbacks) to one of two maps, emu->memory and emu->ports; CPU and DMA resolve
 *            addresses here. Writers of guest memory that do not come through here call mem_written() afterwards.
 * Theory     A map is a list of overlapping regions with priorities. From it a flat, sorted, gap-free list of ranges is made, in which
 *            reads and writes have an owner each (PAM sends them to different places). It is rebuilt at the first lookup after a
 *            change; lookups are a binary search, or for ports one table read. The CPU's TLB and trace cache sit in front of all
 *            this and are told about changes through emu->on_map_change.
 * Invariants 1. ranges cover 0 .. 2^64 without gap or overlap, unless the map is dirty.
 *            2. A region callback sees only offsets and sizes that its ops allow (min_size .. max_size, inside the region).
 *            3. Every change of block bytes passes mem_written() (or the CPU's own store path, which asks page_flags first).
 */
#include "../machine.h"

#define MEM_PAGE UINT64_C(4096)
#define MEM_PORTS 65536u

/* ---- blocks ---- */

EMU_PRIV struct ram_block *ram_block_create(struct emu *e, const char *name, uint64_t size_bytes, bool rom, struct err *err)
{
    struct ram_block *b;
    uint64_t size = (size_bytes + MEM_PAGE - 1) & ~(MEM_PAGE - 1);
    if (e->block_count == EMU_ARRAY_LEN(e->blocks)) {
        err_set(err, EMU_ENOMEM, "%s: too many memory blocks", name);
        return NULL;
    }
    b = emu_alloc(e, sizeof *b);
    if (b && size == (size_t)size && size >= size_bytes) {
        b->bytes = host_map_memory((size_t)size);
        b->page_flags = host_map_memory((size_t)(size / MEM_PAGE));
    }
    if (!b || !b->bytes || !b->page_flags) {
        if (b && b->bytes)
            host_unmap_memory(b->bytes, (size_t)size);
        emu_free(e, b);
        err_set(err, EMU_ENOMEM, "%s: the host gives no %" PRIu64 " MiB of memory; ask for less with -m", name, size / MIB);
        return NULL;
    }
    snprintf(b->name, sizeof b->name, "%s", name);
    b->size_bytes = size;
    b->rom = rom;
    b->id = e->block_count;
    e->blocks[e->block_count++] = b;
    return b;
}

/* ---- regions and the flat view ---- */

EMU_PRIV void region_init_io(struct region *r, const char *name, const struct region_ops *ops, void *opaque, uint64_t size)
{
    memset(r, 0, sizeof *r);
    r->name = name;
    r->kind = REGION_IO;
    r->access = REGION_READS | REGION_WRITES;
    r->ops = ops;
    r->opaque = opaque;
    r->size = size;
}

EMU_PRIV void region_init_ram(struct region *r, const char *name, struct ram_block *block, uint64_t block_offset, uint64_t size)
{
    memset(r, 0, sizeof *r);
    r->name = name;
    r->kind = REGION_RAM;
    r->access = REGION_READS | REGION_WRITES;
    r->block = block;
    r->block_offset = block_offset;
    r->size = size;
}

static void mem_map_changed(struct emu *e, struct map *map)
{
    map->dirty = true;
    if (map == &e->memory && e->on_map_change)
        e->on_map_change(e);
}

EMU_PRIV int region_add(struct emu *e, struct map *map, struct region *r, uint64_t base, int priority)
{
    if (r->added)
        return EMU_EEXIST;
    r->base = base;
    r->priority = priority;
    r->enabled = true;
    r->added = true;
    r->order = map->order++;
    r->next = map->regions;
    map->regions = r;
    mem_map_changed(e, map);
    return 0;
}

EMU_PRIV void region_remove(struct emu *e, struct map *map, struct region *r)
{
    struct region **p;
    for (p = &map->regions; *p; p = &(*p)->next)
        if (*p == r) {
            *p = r->next;
            r->added = false;
            mem_map_changed(e, map);
            return;
        }
}

EMU_PRIV void region_set(struct emu *e, struct map *map, struct region *r, uint64_t base, bool enabled)
{
    if (r->base == base && r->enabled == enabled)
        return;
    r->base = base;
    r->enabled = enabled;
    mem_map_changed(e, map);
}

static int mem_compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool mem_region_wins(const struct region *a, const struct region *b)
{
    return !b || a->priority > b->priority || (a->priority == b->priority && a->order > b->order);
}

static bool mem_region_covers(const struct region *r, uint64_t start, uint64_t last)
{
    return r->enabled && r->size && start >= r->base && last - r->base <= r->size - 1;
}

/* Rebuilds the flat view. If memory runs out the old view stays, and the next lookup tries again. */
static void mem_flatten(struct emu *e, struct map *map)
{
    size_t n = 0, points = 0, i, used = 0;
    uint64_t *cuts;
    struct region *r;
    for (r = map->regions; r; r = r->next)
        n++;
    cuts = emu_alloc(e, (2 * n + 1) * sizeof *cuts);
    if (cuts && map->range_capacity < 2 * n + 1) {
        struct map_range *ranges = emu_realloc(e, map->ranges, (2 * n + 1) * sizeof *ranges);
        if (ranges) {
            map->ranges = ranges;
            map->range_capacity = 2 * n + 1;
        }
    }
    if (!cuts || map->range_capacity < 2 * n + 1) {
        emu_free(e, cuts);
        return;
    }
    cuts[points++] = 0;
    for (r = map->regions; r; r = r->next)
        if (r->enabled && r->size) {
            cuts[points++] = r->base;
            if (r->base + r->size) /* not up to 2^64 */
                cuts[points++] = r->base + r->size;
        }
    qsort(cuts, points, sizeof *cuts, mem_compare_u64);
    for (i = 0; i < points; i++) {
        struct map_range range = { cuts[i], i + 1 < points ? cuts[i + 1] : 0, NULL, NULL };
        if (i + 1 < points && cuts[i] == cuts[i + 1])
            continue;
        for (r = map->regions; r; r = r->next)
            if (mem_region_covers(r, range.start, range.end - 1)) {
                if ((r->access & REGION_READS) && mem_region_wins(r, range.rd))
                    range.rd = r;
                if ((r->access & REGION_WRITES) && mem_region_wins(r, range.wr))
                    range.wr = r;
            }
        if (used && map->ranges[used - 1].rd == range.rd && map->ranges[used - 1].wr == range.wr)
            map->ranges[used - 1].end = range.end;
        else
            map->ranges[used++] = range;
    }
    map->range_count = used;
    map->dirty = false;
    emu_free(e, cuts);
    if (map->port_index)
        for (i = 0; i < used; i++) {
            uint64_t p, end = map->ranges[i].end && map->ranges[i].end < MEM_PORTS ? map->ranges[i].end : MEM_PORTS;
            for (p = map->ranges[i].start; p < end; p++)
                map->port_index[p] = (uint16_t)i;
        }
}

static const struct map_range *mem_find(struct emu *e, struct map *map, uint64_t address)
{
    size_t low = 0, high;
    if (EMU_UNLIKELY(map->dirty))
        mem_flatten(e, map);
    high = map->range_count;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (map->ranges[mid].start <= address)
            low = mid;
        else
            high = mid;
    }
    return &map->ranges[low];
}

/* ---- region callbacks with size adjustment ---- */

static uint64_t mem_ones(unsigned size) { return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1; }

static uint64_t mem_io_read(struct region *r, uint64_t offset, unsigned size)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1, max = r->ops->max_size ? r->ops->max_size : 4;
    uint64_t value = 0;
    unsigned done = 0;
    if (!r->ops->read)
        return mem_ones(size);
    if (size < min) {
        uint64_t aligned = offset & ~(uint64_t)(min - 1);
        unsigned shift = (unsigned)(offset - aligned);
        if (shift + size > min) /* crosses: bytewise */
            return mem_io_read(r, offset, size / 2) | (mem_io_read(r, offset + size / 2, size / 2) << (4 * size));
        return (r->ops->read(r->opaque, aligned, min) >> (8 * shift)) & mem_ones(size);
    }
    if (size <= max)
        return r->ops->read(r->opaque, offset, size) & mem_ones(size);
    for (; done < size; done += max)
        value |= (r->ops->read(r->opaque, offset + done, max) & mem_ones(max)) << (8 * done);
    return value;
}

static void mem_io_write(struct region *r, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1, max = r->ops->max_size ? r->ops->max_size : 4;
    unsigned done = 0;
    if (!r->ops->write)
        return;
    value &= mem_ones(size);
    if (size < min && !r->ops->write_any) {
        uint64_t aligned = offset & ~(uint64_t)(min - 1), old;
        unsigned shift = (unsigned)(offset - aligned);
        if (shift + size > min) {
            mem_io_write(r, offset, value, size / 2);
            mem_io_write(r, offset + size / 2, value >> (4 * size), size / 2);
            return;
        }
        old = r->ops->read ? r->ops->read(r->opaque, aligned, min) : 0;
        value = (old & ~(mem_ones(size) << (8 * shift))) | (value << (8 * shift));
        r->ops->write(r->opaque, aligned, value, min);
        return;
    }
    if (size <= max) {
        r->ops->write(r->opaque, offset, value, size);
        return;
    }
    for (; done < size; done += max)
        r->ops->write(r->opaque, offset + done, (value >> (8 * done)) & mem_ones(max), max);
}

/* ---- ports ---- */

EMU_PRIV int port_add(struct emu *e, struct region *r, const char *name, uint16_t port, unsigned count, const struct region_ops *ops, void *opaque)
{
    region_init_io(r, name, ops, opaque, count);
    return region_add(e, &e->ports, r, port, 0);
}

static const struct map_range *mem_port_range(struct emu *e, uint16_t port)
{
    if (EMU_UNLIKELY(e->ports.dirty))
        mem_flatten(e, &e->ports);
    return &e->ports.ranges[e->ports.port_index[port]];
}

/* An access that leaves its region is made byte by byte: each byte finds its own owner (the PC's bus does so too). */
EMU_PRIV uint64_t port_read(struct emu *e, uint16_t port, unsigned size)
{
    struct region *r = mem_port_range(e, port)->rd;
    if (r && port - r->base + size <= r->size)
        return mem_io_read(r, port - r->base, size);
    if (size > 1) {
        uint64_t value = 0;
        unsigned i;
        for (i = 0; i < size; i++)
            value |= port_read(e, (uint16_t)(port + i), 1) << (8 * i);
        return value;
    }
    emu_log(e, LOG_UNIMP, "port %#x: read, nobody there", port);
    return mem_ones(size);
}

EMU_PRIV void port_write(struct emu *e, uint16_t port, uint64_t value, unsigned size)
{
    struct region *r = mem_port_range(e, port)->wr;
    if (r && port - r->base + size <= r->size) {
        mem_io_write(r, port - r->base, value, size);
    } else if (size > 1) {
        unsigned i;
        for (i = 0; i < size; i++)
            port_write(e, (uint16_t)(port + i), (value >> (8 * i)) & 0xFF, 1);
    } else {
        emu_log(e, LOG_UNIMP, "port %#x: %#" PRIx64 " written, nobody there", port, value);
    }
}

/* ---- memory ---- */

EMU_PRIV void mem_resolve(struct emu *e, uint64_t gpa, struct phys_page *out)
{
    uint64_t page = gpa & ~(MEM_PAGE - 1);
    const struct map_range *m = mem_find(e, &e->memory, page);
    memset(out, 0, sizeof *out);
    out->rd = m->rd;
    out->wr = m->wr;
    out->partial = m->end != 0 && m->end - page < MEM_PAGE;
    if (m->rd && m->rd->kind == REGION_RAM && !out->partial) {
        out->block = m->rd->block;
        out->block_offset = m->rd->block_offset + (page - m->rd->base);
        if (out->block_offset & (MEM_PAGE - 1)) { /* a window that is not page-aligned in its block */
            out->partial = true;
            out->block = NULL;
            return;
        }
        out->host = out->block->bytes + out->block_offset;
        out->writable_direct = m->wr && m->wr->kind == REGION_RAM && m->wr->block == out->block && !out->block->rom &&
                               m->wr->block_offset + (page - m->wr->base) == out->block_offset;
    }
}

EMU_PRIV void mem_written(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size)
{
    uint64_t page = offset / MEM_PAGE, last;
    if (!size || offset >= b->size_bytes)
        return;
    last = (EMU_MIN(offset + size, b->size_bytes) - 1) / MEM_PAGE;
    for (; page <= last; page++) {
        uint8_t flags = b->page_flags[page];
        if (EMU_UNLIKELY(flags & (PAGE_HAS_CODE | PAGE_TRACKED))) {
            if (flags & PAGE_TRACKED)
                b->page_flags[page] = (uint8_t)((flags & ~PAGE_TRACKED) | PAGE_DIRTY);
            if ((flags & PAGE_HAS_CODE) && e->on_code_write) {
                uint64_t from = EMU_MAX(offset, page * MEM_PAGE), to = EMU_MIN(offset + size, (page + 1) * MEM_PAGE);
                e->on_code_write(e, b, from, to - from);
            }
        }
    }
}

EMU_PRIV void mem_track_dirty(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size)
{
    uint64_t page = offset / MEM_PAGE, end = EMU_MIN(offset + size + MEM_PAGE - 1, b->size_bytes) / MEM_PAGE;
    bool changed = false;
    for (; page < end; page++)
        if (!(b->page_flags[page] & PAGE_TRACKED)) {
            b->page_flags[page] = (uint8_t)((b->page_flags[page] & ~PAGE_DIRTY) | PAGE_TRACKED);
            changed = true;
        }
    if (changed && e->on_map_change) /* cached write mappings of these pages must go */
        e->on_map_change(e);
}

/* Bytes of [gpa, gpa+size) that lie in one range. */
static size_t mem_span(const struct map_range *m, uint64_t gpa, size_t size)
{
    return m->end && m->end - gpa < size ? (size_t)(m->end - gpa) : size;
}

/* Largest naturally aligned access that fits. */
static unsigned mem_io_chunk(uint64_t gpa, size_t size)
{
    unsigned n = 8;
    while (n > size || (gpa & (n - 1)))
        n /= 2;
    return n;
}

EMU_PRIV void mem_read(struct emu *e, uint64_t gpa, void *buf, size_t size)
{
    uint8_t *p = buf;
    while (size) {
        const struct map_range *m = mem_find(e, &e->memory, gpa);
        size_t n = mem_span(m, gpa, size);
        if (!m->rd) {
            memset(p, 0xFF, n);
        } else if (m->rd->kind == REGION_RAM) {
            memcpy(p, m->rd->block->bytes + m->rd->block_offset + (gpa - m->rd->base), n);
        } else {
            n = mem_io_chunk(gpa, n);
            stn_le(p, mem_io_read(m->rd, gpa - m->rd->base, (unsigned)n), (unsigned)n);
        }
        p += n;
        gpa += n;
        size -= n;
    }
}

EMU_PRIV void mem_write(struct emu *e, uint64_t gpa, const void *buf, size_t size)
{
    const uint8_t *p = buf;
    while (size) {
        const struct map_range *m = mem_find(e, &e->memory, gpa);
        size_t n = mem_span(m, gpa, size);
        struct region *r = m->wr;
        if (r && r->kind == REGION_RAM) {
            if (!r->block->rom) {
                uint64_t offset = r->block_offset + (gpa - r->base);
                memcpy(r->block->bytes + offset, p, n);
                mem_written(e, r->block, offset, n);
            }
        } else if (r) {
            n = mem_io_chunk(gpa, n);
            mem_io_write(r, gpa - r->base, ldn_le(p, (unsigned)n), (unsigned)n);
        }
        p += n;
        gpa += n;
        size -= n;
    }
}

EMU_PRIV uint64_t mem_ld(struct emu *e, uint64_t gpa, unsigned size)
{
    const struct map_range *m = mem_find(e, &e->memory, gpa);
    uint8_t bytes[8];
    if (mem_span(m, gpa, size) == size) {
        if (!m->rd)
            return mem_ones(size);
        if (m->rd->kind == REGION_RAM)
            return ldn_le(m->rd->block->bytes + m->rd->block_offset + (gpa - m->rd->base), size);
        return mem_io_read(m->rd, gpa - m->rd->base, size);
    }
    mem_read(e, gpa, bytes, size);
    return ldn_le(bytes, size);
}

EMU_PRIV void mem_st(struct emu *e, uint64_t gpa, uint64_t value, unsigned size)
{
    const struct map_range *m = mem_find(e, &e->memory, gpa);
    uint8_t bytes[8];
    if (m->wr && m->wr->kind == REGION_IO && mem_span(m, gpa, size) == size) {
        mem_io_write(m->wr, gpa - m->wr->base, value, size);
        return;
    }
    stn_le(bytes, value, size);
    mem_write(e, gpa, bytes, size);
}

EMU_PRIV uint8_t *mem_host(struct emu *e, uint64_t gpa, uint64_t *size, bool write)
{
    const struct map_range *m = mem_find(e, &e->memory, gpa);
    struct region *r = write ? m->wr : m->rd;
    uint64_t left;
    if (!r || r->kind != REGION_RAM || (write && r->block->rom))
        return NULL;
    left = m->end ? m->end - gpa : r->base + r->size - gpa;
    if (*size > left)
        *size = left;
    return r->block->bytes + r->block_offset + (gpa - r->base);
}

EMU_PRIV bool mem_is_ram(struct emu *e, uint64_t gpa, uint64_t size)
{
    while (size) {
        uint64_t n = size;
        if (gpa + size < gpa || !mem_host(e, gpa, &n, true) || !mem_host(e, gpa, &n, false))
            return false;
        gpa += n;
        size -= n;
    }
    return true;
}

EMU_PRIV int mem_load(struct emu *e, uint64_t gpa, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        uint64_t n = size;
        const struct map_range *m = mem_find(e, &e->memory, gpa);
        uint8_t *to = mem_host(e, gpa, &n, false);
        if (!to)
            return EMU_EFAULT;
        memcpy(to, p, (size_t)n);
        mem_written(e, m->rd->block, m->rd->block_offset + (gpa - m->rd->base), n);
        p += n;
        gpa += n;
        size -= (size_t)n;
    }
    return 0;
}

EMU_PRIV void mem_print_map(struct emu *e, struct buf *out)
{
    struct map *maps[2];
    unsigned k;
    maps[0] = &e->memory;
    maps[1] = &e->ports;
    for (k = 0; k < 2; k++) {
        size_t i;
        if (maps[k]->dirty)
            mem_flatten(e, maps[k]);
        buf_printf(out, "%s:\n", k ? "ports" : "memory");
        for (i = 0; i < maps[k]->range_count; i++) {
            const struct map_range *m = &maps[k]->ranges[i];
            if (!m->rd && !m->wr)
                continue;
            buf_printf(out, k ? "  %04" PRIx64 "-%04" PRIx64 " %s" : "  %016" PRIx64 "-%016" PRIx64 " %s", m->start, m->end - 1,
                       m->rd ? m->rd->name : "(none)");
            if (m->wr != m->rd)
                buf_printf(out, ", writes: %s", m->wr ? m->wr->name : "(none)");
            buf_printf(out, "\n");
        }
    }
}

EMU_PRIV int memory_create(struct emu *e, struct err *err)
{
    e->a20_mask = UINT64_MAX;
    e->memory.dirty = e->ports.dirty = true;
    e->ports.port_index = emu_alloc(e, MEM_PORTS * sizeof *e->ports.port_index);
    if (!e->ports.port_index)
        return err_set(err, EMU_ENOMEM, "out of memory");
    mem_flatten(e, &e->memory);
    mem_flatten(e, &e->ports);
    if (!e->memory.range_count || !e->ports.range_count)
        return err_set(err, EMU_ENOMEM, "out of memory");
    return 0;
}

EMU_PRIV void memory_destroy(struct emu *e)
{
    unsigned i;
    for (i = 0; i < e->block_count; i++) {
        host_unmap_memory(e->blocks[i]->bytes, (size_t)e->blocks[i]->size_bytes);
        host_unmap_memory(e->blocks[i]->page_flags, (size_t)(e->blocks[i]->size_bytes / MEM_PAGE));
        emu_free(e, e->blocks[i]);
    }
    e->block_count = 0;
    emu_free(e, e->ports.port_index);
    emu_free(e, e->ports.ranges);
    emu_free(e, e->memory.ranges);
    memset(&e->ports, 0, sizeof e->ports);
    memset(&e->memory, 0, sizeof e->memory);
}
#undef MEM_PAGE
#undef MEM_PORTS
