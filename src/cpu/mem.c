/* cpu/mem.c - loads and stores by segment and by linear address, and the TLB in front of the page walk.
 *
 * Models     Segment checks of SDM vol. 3 chapter 5 (5.3 limits, 5.4 types), canonical form (vol. 1 3.3.7.1), TLB rules of vol. 3
 *            4.10 (PCID, global pages, INVLPG, INVPCID), #AC, data breakpoints (17.2).
 * Contract   Every guest access that is not inlined in a uop handler comes through here. Below it are mmu_walk() and the
 *            machine's memory map; above it the handlers (tlb_host() fills their page caches) and all plain-C instructions.
 * Theory     A direct-mapped TLB in three sets (see cpu.h) says for a linear page whether loads, and whether stores, may go straight
 *            to host memory. Whatever may not (I/O, a store to a page with traces, to a tracked page, a watched page) stands
 *            in the small `slow` cache with its physical address, so that MMIO costs no page walk each time.
 *            Nothing is ever cleared to flush: entries carry a tag. A CR3 load takes a new tag (or, with PCID, finds the old one);
 *            global pages carry a tag of their own. uop page caches compare cpu->generation, which changes with each of these and also
 *            with INVLPG and with new code pages. Links and the jump cache compare cpu->code_generation, which INVLPG changes only where
 *            code may have been taken from the page, or cpu->global_code_generation, which CR3 loads leave alone.
 * Invariants 1. A TLB entry allows a direct store only if: plain RAM for reads and writes, D set, rights for the set's accesses, no page
 *               flag HAS_CODE, TRACKED or WATCHED, no data breakpoint in the page.
 *            2. No two CPUs of a machine ever have the same generation or tag, and none is used again before a wrap, at which all are
 *               cleared.
 *            3. A store that crosses pages translates both before it changes a byte.
 *            4. Set 0 holds no user page while CR4.SMAP is on: those fault there.
 */
#include "../machine.h"
#include "cpu.h"

#if defined(EMU_TORTURE)
enum { MEM_ITLB_SIZE = 4, MEM_SLOW_SIZE = 2, MEM_PCIDS = 2 };
#else
enum { MEM_ITLB_SIZE = 512, MEM_SLOW_SIZE = 64, MEM_PCIDS = 16 };
#endif
enum { MEM_CODE_FILTER = 4096 };
enum { MEM_WATCHES = 32, MEM_PAGE = 4096, MEM_BLOCKING_FLAGS = PAGE_HAS_CODE | PAGE_TRACKED | PAGE_WATCHED };

struct mem_itlb { /* code pages */
    uint64_t page, gpa;
    struct phys_page phys;
    uint32_t generation;
    bool user;
};
struct mem_slow { /* data pages that have no direct access, or none for stores */
    uint64_t page, gpa;
    struct phys_page phys;
    uint32_t generation;
    bool write_ok; /* rights and D bit allow a store */
    bool watched;
};
struct mem_pcid {
    bool valid;
    uint16_t pcid;
    uint32_t tlb_generation, generation, epoch;
    uint32_t code_generation, code_epoch;
};
struct mem_large { /* where large pages were seen, so that INVLPG of a small one stays cheap; [0] lower half, [1] upper */
    uint64_t low, high, size; /* size 0: none */
};
struct mem_mmu {
    struct mem_itlb itlb[MEM_ITLB_SIZE];
    struct mem_slow slow[TLB_SETS][MEM_SLOW_SIZE];
    struct mem_pcid pcids[MEM_PCIDS];
    struct mem_large large[2];
    unsigned next_pcid;
    uint64_t code_filter[MEM_CODE_FILTER / 64]; /* bit by page: code may have been taken from there since code_epoch changed */
    uint32_t code_epoch; /* as epoch, for code_generation */
    uint32_t epoch; /* changes when something that all PCIDs share was invalidated: their generations are stale then */
    struct breakpoint watches[MEM_WATCHES];
    unsigned watch_count;
};
static struct mem_mmu *mem_mmu(const struct cpu *c) { return c->mmu; }
static unsigned mem_itlb_index(uint64_t va, bool user) { return ((unsigned)(va >> 12) ^ (user ? MEM_ITLB_SIZE / 2u : 0u)) & (MEM_ITLB_SIZE - 1u); }

/* ---- generations ---- */

static void mem_clear_tags(struct cpu *c)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned s, k;
    for (s = 0; s < TLB_SETS; s++) {
        for (k = 0; k < TLB_SIZE; k++) {
            c->tlb[s][k].read_page = c->tlb[s][k].write_page = TLB_NO_PAGE;
            c->tlb[s][k].generation = 0;
        }
        for (k = 0; k < MEM_SLOW_SIZE; k++)
            m->slow[s][k].page = TLB_NO_PAGE;
    }
    for (k = 0; k < MEM_ITLB_SIZE; k++)
        m->itlb[k].page = TLB_NO_PAGE;
    for (k = 0; k < MEM_PCIDS; k++)
        m->pcids[k].valid = false;
    for (k = 0; k < 2; k++)
        m->large[k].size = 0;
}

EMU_PRIV uint32_t cpu_new_generation(struct emu *e)
{
    if (e->last_generation >= UINT32_MAX - 8) { /* wrap: forget every tag there is; invariant 2 */
        unsigned k;
        e->last_generation = 0;
        for (k = 0; k < e->cpu_count; k++)
            if (e->cpus[k] && e->cpus[k]->mmu) {
                mem_clear_tags(e->cpus[k]);
                e->cpus[k]->generation = ++e->last_generation;
                e->cpus[k]->tlb_generation = e->cpus[k]->global_generation = e->cpus[k]->generation;
                e->cpus[k]->code_generation = e->cpus[k]->global_code_generation = e->cpus[k]->generation;
            }
        if (e->traces)
            trace_flush_all(e);
    }
    return ++e->last_generation;
}

/* Remembers the tags under the present PCID, so that a return to it finds its entries. */
static void mem_save_pcid(struct cpu *c)
{
    struct mem_mmu *m = mem_mmu(c);
    uint16_t id = c->cr4 & CR4_PCIDE ? (uint16_t)(c->cr3 & 0xFFF) : 0;
    unsigned k, at = MEM_PCIDS;
    for (k = 0; k < MEM_PCIDS && at == MEM_PCIDS; k++)
        if (m->pcids[k].valid && m->pcids[k].pcid == id)
            at = k;
    for (k = 0; k < MEM_PCIDS && at == MEM_PCIDS; k++)
        if (!m->pcids[k].valid)
            at = k;
    if (at == MEM_PCIDS)
        at = m->next_pcid++ % MEM_PCIDS;
    m->pcids[at].valid = true;
    m->pcids[at].pcid = id;
    m->pcids[at].tlb_generation = c->tlb_generation;
    m->pcids[at].generation = c->generation;
    m->pcids[at].epoch = m->epoch;
    m->pcids[at].code_generation = c->code_generation;
    m->pcids[at].code_epoch = m->code_epoch;
}

static void mem_forget_pcid(struct cpu *c, unsigned pcid, bool all)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned k;
    for (k = 0; k < MEM_PCIDS; k++)
        if (all || m->pcids[k].pcid == pcid)
            m->pcids[k].valid = false;
}

/* Another address space, or nothing known of this one: what is not global is void. Generations, or 0 for a new one. */
static void mem_change_space(struct cpu *c, uint32_t tlb, uint32_t code, uint32_t uops)
{
    c->tlb_generation = tlb ? tlb : cpu_new_generation(c->emu);
    c->code_generation = code ? code : cpu_new_generation(c->emu);
    c->generation = uops ? uops : cpu_new_generation(c->emu);
}

EMU_PRIV void tlb_flush_nonglobal(struct cpu *c)
{
    mem_forget_pcid(c, 0, true);
    mem_change_space(c, 0, 0, 0);
}

EMU_PRIV void tlb_flush_all(struct cpu *c)
{
    struct mem_mmu *m = mem_mmu(c);
    mem_forget_pcid(c, 0, true);
    m->large[0].size = m->large[1].size = 0;
    c->global_generation = c->global_code_generation = cpu_new_generation(c->emu);
    c->tlb_generation = c->code_generation = c->generation = cpu_new_generation(c->emu);
}

EMU_PRIV void tlb_flush_pcid(struct cpu *c, unsigned pcid)
{
    mem_forget_pcid(c, pcid, false);
    if (pcid == (c->cr3 & 0xFFF) || !(c->cr4 & CR4_PCIDE))
        mem_change_space(c, 0, 0, 0);
}

EMU_PRIV void tlb_set_cr3(struct cpu *c, uint64_t cr3, bool keep)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned k;
    if (!(c->cr4 & CR4_PCIDE)) {
        c->cr3 = cr3;
        mem_change_space(c, 0, 0, 0);
        return;
    }
    mem_save_pcid(c);
    c->cr3 = cr3;
    if (keep) {
        for (k = 0; k < MEM_PCIDS; k++) {
            struct mem_pcid *p = &m->pcids[k];
            if (p->valid && p->pcid == (cr3 & 0xFFF)) {
                mem_change_space(c, p->tlb_generation, p->code_epoch == m->code_epoch ? p->code_generation : 0, p->epoch == m->epoch ? p->generation : 0);
                return;
            }
        }
    }
    mem_forget_pcid(c, (unsigned)(cr3 & 0xFFF), false);
    mem_change_space(c, 0, 0, 0);
}

/* uop page caches of this CPU become stale under every PCID; the TLB stays. */
static void mem_bump_uops(struct cpu *c)
{
    mem_mmu(c)->epoch++;
    c->generation = cpu_new_generation(c->emu);
}

static uint64_t *mem_code_filter(struct cpu *c, uint64_t va, uint64_t *bit)
{
    unsigned k = (unsigned)((va >> 12) ^ (va >> 24)) & (MEM_CODE_FILTER - 1u);
    *bit = UINT64_C(1) << (k & 63);
    return &mem_mmu(c)->code_filter[k >> 6];
}

/* The page (or a large page, of which this is one) is mapped anew: links and jumps that lead to its code become stale, under every PCID. */
static void mem_bump_code(struct cpu *c, uint64_t va, bool large)
{
    uint64_t bit, *word = mem_code_filter(c, va, &bit);
    if (!large && !(*word & bit))
        return;
    mem_mmu(c)->code_epoch++;
    memset(mem_mmu(c)->code_filter, 0, sizeof mem_mmu(c)->code_filter);
    c->code_generation = cpu_new_generation(c->emu);
    c->global_code_generation = cpu_new_generation(c->emu);
}

static void mem_drop_tlb(struct cpu *c, unsigned set, uint64_t page, uint64_t mask)
{
    struct tlb_entry *t = &c->tlb[set][(page >> 12) & (TLB_SIZE - 1)];
    if (((t->read_page ^ page) & mask) == 0 || ((t->write_page ^ page) & mask) == 0)
        t->read_page = t->write_page = TLB_NO_PAGE;
}

EMU_PRIV void tlb_flush_page(struct cpu *c, uint64_t va)
{
    struct mem_mmu *m = mem_mmu(c);
    struct mem_large *l = &m->large[va >> 63];
    uint64_t size = MEM_PAGE, mask, k;
    unsigned s, j;
    if (l->size && va >= l->low && va <= l->high)
        size = l->size;
    mask = ~(size - 1);
    va &= mask;
    for (s = 0; s < TLB_SETS; s++) {
        for (k = 0; k < EMU_MIN(size / MEM_PAGE, TLB_SIZE); k++)
            mem_drop_tlb(c, s, va + k * MEM_PAGE, mask);
        for (j = 0; j < MEM_SLOW_SIZE; j++)
            if (((m->slow[s][j].page ^ va) & mask) == 0)
                m->slow[s][j].page = TLB_NO_PAGE;
    }
    if (size == MEM_PAGE) {
        m->itlb[mem_itlb_index(va, false)].page = TLB_NO_PAGE;
        m->itlb[mem_itlb_index(va, true)].page = TLB_NO_PAGE;
    } else {
        for (j = 0; j < MEM_ITLB_SIZE; j++)
            if (((m->itlb[j].page ^ va) & mask) == 0)
                m->itlb[j].page = TLB_NO_PAGE;
    }
    mem_bump_code(c, va, size > MEM_PAGE);
    mem_bump_uops(c);
}

EMU_PRIV void tlb_machine_changed(struct emu *e)
{
    unsigned k;
    for (k = 0; k < e->cpu_count; k++)
        if (e->cpus && e->cpus[k] && e->cpus[k]->mmu)
            tlb_flush_all(e->cpus[k]);
}

EMU_PRIV void tlb_protect_page(struct emu *e, struct ram_block *block, uint64_t block_offset)
{
    uintptr_t host = (uintptr_t)(block->bytes + (block_offset & ~(uint64_t)(MEM_PAGE - 1)));
    unsigned n, s, k;
    for (n = 0; n < e->cpu_count; n++) {
        struct cpu *c = e->cpus[n];
        if (!c || !c->mmu)
            continue;
        for (s = 0; s < TLB_SETS; s++)
            for (k = 0; k < TLB_SIZE; k++) {
                struct tlb_entry *t = &c->tlb[s][k];
                if (t->write_page != TLB_NO_PAGE && t->addend + (uintptr_t)t->write_page == host)
                    t->write_page = TLB_NO_PAGE;
            }
        mem_bump_uops(c);
    }
}

EMU_PRIV int mem_mmu_create(struct cpu *c)
{
    c->mmu = emu_alloc(c->emu, sizeof(struct mem_mmu));
    if (!c->mmu)
        return EMU_ENOMEM;
    mem_clear_tags(c);
    c->global_generation = c->global_code_generation = cpu_new_generation(c->emu);
    c->tlb_generation = c->code_generation = c->generation = cpu_new_generation(c->emu);
    return 0;
}

EMU_PRIV void mem_mmu_destroy(struct cpu *c)
{
    emu_free(c->emu, c->mmu);
    c->mmu = NULL;
}

/* ---- watchpoints and data breakpoints ---- */

EMU_PRIV int mem_watch_set(struct emu *e, uint64_t va, uint64_t size, unsigned kind, bool on)
{
    unsigned n, k;
    int result = 0;
    for (n = 0; n < e->cpu_count; n++) {
        struct mem_mmu *m = mem_mmu(e->cpus[n]);
        for (k = 0; k < m->watch_count; k++)
            if (m->watches[k].va == va && m->watches[k].size == size && m->watches[k].kind == kind)
                break;
        if (on && k == m->watch_count) {
            if (k == MEM_WATCHES) {
                result = EMU_ENOMEM;
                continue;
            }
            m->watches[k].va = va;
            m->watches[k].size = size;
            m->watches[k].kind = (uint8_t)kind;
            m->watch_count++;
        } else if (!on) {
            if (k == m->watch_count)
                result = EMU_ENOENT;
            else
                m->watches[k] = m->watches[--m->watch_count];
        }
        tlb_flush_all(e->cpus[n]);
    }
    return result;
}

/* Bytes that DR n watches: length code 00 1, 01 2, 11 4, 10 8; the address is aligned to it (SDM 3B 17.2.5). */
static uint64_t mem_dr_range(const struct cpu *c, unsigned n, uint64_t *size)
{
    unsigned code = (unsigned)(c->dr[7] >> (18 + n * 4)) & 3;
    *size = code == 0 ? 1 : code == 1 ? 2 : code == 3 ? 4 : 8;
    return c->dr[n] & ~(*size - 1);
}

static bool mem_overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a - b < b_size || b - a < a_size;
}

/* Does anybody watch data in the page? Then no access to it goes directly. */
static bool mem_page_watched(const struct cpu *c, uint64_t page)
{
    const struct mem_mmu *m = mem_mmu(c);
    unsigned n;
    uint64_t size, at;
    if (c->dr[7] & 0xFF)
        for (n = 0; n < 4; n++)
            if (((c->dr[7] >> (n * 2)) & 3) && ((c->dr[7] >> (16 + n * 4)) & 1)) {
                at = mem_dr_range(c, n, &size);
                if (mem_overlaps(page, MEM_PAGE, at, size))
                    return true;
            }
    for (n = 0; n < m->watch_count; n++)
        if (mem_overlaps(page, MEM_PAGE, m->watches[n].va, m->watches[n].size))
            return true;
    return false;
}

static void mem_note_access(struct cpu *c, uint64_t va, unsigned size, bool write, bool read)
{
    const struct mem_mmu *m = mem_mmu(c);
    unsigned n;
    uint64_t dr_size, at;
    if (c->dr[7] & 0xFF)
        for (n = 0; n < 4; n++) {
            unsigned type = (unsigned)(c->dr[7] >> (16 + n * 4)) & 3;
            if (!(type & 1) || (type == 1 && !write)) /* 01 writes, 11 reads and writes */
                continue;
            at = mem_dr_range(c, n, &dr_size);
            if (mem_overlaps(va, size, at, dr_size)) {
                bool enabled = ((c->dr[7] >> (n * 2)) & 3) != 0;
                if (enabled)
                    c->debug_hits |= 1u << n;
            }
        }
    for (n = 0; n < m->watch_count; n++)
        if ((((m->watches[n].kind & 1) && write) || ((m->watches[n].kind & 2) && read)) &&
            mem_overlaps(va, size, m->watches[n].va, m->watches[n].size)) {
            c->watch_hit = true;
            c->watch_va = va;
            c->attention |= CPU_ATTENTION_INT;
        }
}

/* ---- translation ---- */

static unsigned mem_set(const struct cpu *c, unsigned access) { return access & ACCESS_SYSTEM ? 0 : c->tlb_set; }
static bool mem_writes(unsigned access) { return (access & 3) == ACCESS_WRITE || (access & 3) == ACCESS_RMW; }

static uint64_t mem_linear_mask(const struct cpu *c, unsigned access)
{
    bool wide = access & ACCESS_SYSTEM ? (c->efer & EFER_LMA) != 0 : c->mode == MODE_LONG;
    return wide ? UINT64_MAX : UINT32_MAX;
}

static bool mem_valid(const struct cpu *c, uint32_t generation)
{
    return generation == c->tlb_generation || generation == c->global_generation;
}

static void mem_note_large(struct cpu *c, uint64_t va, uint64_t size)
{
    struct mem_large *l = &mem_mmu(c)->large[va >> 63];
    uint64_t low = va & ~(size - 1), high = low + (size - 1);
    if (!l->size) {
        l->low = low;
        l->high = high;
        l->size = size;
        return;
    }
    l->low = EMU_MIN(l->low, low);
    l->high = EMU_MAX(l->high, high);
    l->size = EMU_MAX(l->size, size);
}

static bool mem_blocks_store(const struct phys_page *p)
{
    return !p->writable_direct || !p->block || (p->block->page_flags[p->block_offset >> 12] & MEM_BLOCKING_FLAGS);
}

/* Where [va, ...) of one page is: *host for direct access, else *slow with the physical page. The TLB itself had nothing. */
static EMU_NOINLINE int mem_translate_miss(struct cpu *c, uint64_t va, unsigned access, uint8_t **host, struct mem_slow **slow)
{
    struct mem_mmu *m = mem_mmu(c);
    unsigned set = mem_set(c, access);
    bool write = mem_writes(access), direct_read, direct_write;
    uint64_t page = va & ~(uint64_t)(MEM_PAGE - 1);
    struct tlb_entry *t = &c->tlb[set][(va >> 12) & (TLB_SIZE - 1)];
    struct mem_slow *sl = &m->slow[set][(va >> 12) & (MEM_SLOW_SIZE - 1)];
    struct walk w;
    struct phys_page phys;
    uint32_t generation;
    bool watched;
    *host = NULL;
    *slow = sl;
    if (sl->page == page && mem_valid(c, sl->generation) && (!write || sl->write_ok)) {
        bool still = sl->watched || sl->phys.partial || !sl->phys.host || (write && mem_blocks_store(&sl->phys));
        if (still)
            return CPU_OK;
    }
    if (c->cr0 & CR0_PG) {
        if (mmu_walk(c, va, access, &w))
            return CPU_FAULT;
        generation = w.global ? c->global_generation : c->tlb_generation;
        if (w.page_size > MEM_PAGE)
            mem_note_large(c, va, w.page_size);
    } else {
        w.gpa = va & 0xFFFFFFFFu & c->emu->a20_mask;
        w.writable = w.dirty = true;
        generation = c->tlb_generation;
    }
    mem_resolve(c->emu, w.gpa, &phys);
    watched = mem_page_watched(c, page) || (phys.block && (phys.block->page_flags[phys.block_offset >> 12] & PAGE_WATCHED));
    direct_read = phys.host && !phys.partial && !watched;
    direct_write = direct_read && w.writable && w.dirty && !mem_blocks_store(&phys);
    if (direct_read) {
        t->read_page = page;
        t->write_page = direct_write ? page : TLB_NO_PAGE;
        t->addend = (uintptr_t)phys.host - (uintptr_t)page;
        t->generation = generation;
        if (write ? direct_write : direct_read) {
            *host = phys.host + (va & (MEM_PAGE - 1));
            return CPU_OK;
        }
    }
    sl->page = page;
    sl->gpa = w.gpa & ~(uint64_t)(MEM_PAGE - 1);
    sl->phys = phys;
    sl->generation = generation;
    sl->write_ok = w.writable && w.dirty;
    sl->watched = watched;
    return CPU_OK;
}

static int mem_translate(struct cpu *c, uint64_t va, unsigned access, uint8_t **host, struct mem_slow **slow)
{
    const struct tlb_entry *t = &c->tlb[mem_set(c, access)][(va >> 12) & (TLB_SIZE - 1)];
    if ((mem_writes(access) ? t->write_page : t->read_page) == (va & ~(uint64_t)(MEM_PAGE - 1)) && mem_valid(c, t->generation)) {
        *host = (uint8_t *)(t->addend + (uintptr_t)va);
        return CPU_OK;
    }
    return mem_translate_miss(c, va, access, host, slow);
}

static void mem_slow_read(struct cpu *c, const struct mem_slow *s, uint64_t va, void *buf, unsigned size)
{
    unsigned in = (unsigned)(va & (MEM_PAGE - 1));
    if (s->watched)
        mem_note_access(c, va, size, false, true);
    if (s->phys.host && !s->phys.partial)
        memcpy(buf, s->phys.host + in, size);
    else if (size == 1 || size == 2 || size == 4 || size == 8)
        stn_le(buf, mem_ld(c->emu, s->gpa + in, size), size);
    else
        mem_read(c->emu, s->gpa + in, buf, size);
}

static void mem_slow_write(struct cpu *c, const struct mem_slow *s, uint64_t va, const void *buf, unsigned size)
{
    unsigned in = (unsigned)(va & (MEM_PAGE - 1));
    if (s->watched)
        mem_note_access(c, va, size, true, false);
    if (s->phys.host && !s->phys.partial && s->phys.writable_direct) {
        /* RAM with traces or a tracker: the block's owner hears of it; the copy may be the very page that runs. */
        struct ram_block *block = s->phys.block;
        uint64_t offset = s->phys.block_offset + in;
        memcpy(s->phys.host + in, buf, size);
        mem_written(c->emu, block, offset, size);
    } else if (size == 1 || size == 2 || size == 4 || size == 8) {
        mem_st(c->emu, s->gpa + in, ldn_le(buf, size), size);
    } else {
        mem_write(c->emu, s->gpa + in, buf, size);
    }
}

/* One page's part of an access that may cross: translate first, move later. */
struct mem_part {
    uint64_t va;
    unsigned size;
    uint8_t *host;
    struct mem_slow slow;
};

static int mem_part_prepare(struct cpu *c, struct mem_part *p, uint64_t va, unsigned size, unsigned access)
{
    struct mem_slow *s;
    p->va = va;
    p->size = size;
    if (mem_translate(c, va, access, &p->host, &s))
        return CPU_FAULT;
    if (!p->host)
        p->slow = *s; /* a copy: the other page may take the same place, and callbacks may flush */
    return CPU_OK;
}

static void mem_part_load(struct cpu *c, const struct mem_part *p, uint8_t *buf)
{
    if (p->host)
        memcpy(buf, p->host, p->size);
    else
        mem_slow_read(c, &p->slow, p->va, buf, p->size);
}

static void mem_part_store(struct cpu *c, const struct mem_part *p, const uint8_t *buf)
{
    if (p->host)
        memcpy(p->host, buf, p->size);
    else
        mem_slow_write(c, &p->slow, p->va, buf, p->size);
}

/* Translates up to a page of bytes, which lie in one or two pages. part[1].size is 0 where one does. */
static int mem_prepare(struct cpu *c, struct mem_part part[2], uint64_t va, unsigned size, unsigned access)
{
    uint64_t mask = mem_linear_mask(c, access);
    unsigned first = MEM_PAGE - (unsigned)(va & (MEM_PAGE - 1));
    if (first > size)
        first = size;
    part[1].size = 0;
    if (mem_part_prepare(c, &part[0], va & mask, first, access))
        return CPU_FAULT;
    if (first < size && mem_part_prepare(c, &part[1], (va + first) & mask, size - first, access))
        return CPU_FAULT;
    return CPU_OK;
}

EMU_PRIV int cpu_check_linear(struct cpu *c, uint64_t va, unsigned size, unsigned access)
{
    struct mem_part part[2];
    return mem_prepare(c, part, va, size, access);
}

static EMU_NOINLINE int mem_load_page(struct cpu *c, uint64_t va, uint8_t *buf, unsigned size, unsigned access)
{
    struct mem_part part[2];
    if (mem_prepare(c, part, va, size, access))
        return CPU_FAULT;
    mem_part_load(c, &part[0], buf);
    if (part[1].size)
        mem_part_load(c, &part[1], buf + part[0].size);
    return CPU_OK;
}

static EMU_NOINLINE int mem_store_page(struct cpu *c, uint64_t va, const uint8_t *buf, unsigned size, unsigned access)
{
    struct mem_part part[2];
    if (mem_prepare(c, part, va, size, access))
        return CPU_FAULT;
    mem_part_store(c, &part[0], buf);
    if (part[1].size)
        mem_part_store(c, &part[1], buf + part[0].size);
    return CPU_OK;
}

EMU_PRIV int cpu_copy_linear(struct cpu *c, uint64_t va, void *buf, unsigned size, unsigned access)
{
    uint8_t *p = buf;
    while (size) {
        unsigned n = EMU_MIN(size, (unsigned)MEM_PAGE);
        if ((access & 3) == ACCESS_WRITE ? mem_store_page(c, va, p, n, access) : mem_load_page(c, va, p, n, access))
            return CPU_FAULT;
        va += n;
        p += n;
        size -= n;
    }
    return CPU_OK;
}

static bool mem_tlb_hit(const struct cpu *c, const struct tlb_entry *t, uint64_t tag, uint64_t va, unsigned size)
{
    return (va & ~(uint64_t)(MEM_PAGE - 1)) == tag && (va & (MEM_PAGE - 1)) + size <= MEM_PAGE && mem_valid(c, t->generation);
}

EMU_PRIV int cpu_load_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t *value, unsigned access)
{
    const struct tlb_entry *t = &c->tlb[mem_set(c, access)][(va >> 12) & (TLB_SIZE - 1)];
    uint8_t buf[8];
    if (EMU_LIKELY(mem_tlb_hit(c, t, mem_writes(access) ? t->write_page : t->read_page, va, size))) {
        *value = ldn_le((const uint8_t *)(t->addend + (uintptr_t)va), size);
        return CPU_OK;
    }
    if (mem_load_page(c, va, buf, size, access))
        return CPU_FAULT;
    *value = ldn_le(buf, size);
    return CPU_OK;
}

EMU_PRIV int cpu_store_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t value, unsigned access)
{
    const struct tlb_entry *t = &c->tlb[mem_set(c, access)][(va >> 12) & (TLB_SIZE - 1)];
    uint8_t buf[8];
    if (EMU_LIKELY(mem_tlb_hit(c, t, t->write_page, va, size))) {
        stn_le((uint8_t *)(t->addend + (uintptr_t)va), value, size);
        return CPU_OK;
    }
    stn_le(buf, value, size);
    return mem_store_page(c, va, buf, size, access);
}

EMU_PRIV uint8_t *tlb_host(struct cpu *c, uint64_t va, unsigned size, unsigned access)
{
    const struct tlb_entry *t;
    uint8_t *host;
    struct mem_slow *s;
    va &= mem_linear_mask(c, access);
    if ((va & (MEM_PAGE - 1)) + size > MEM_PAGE)
        return NULL;
    t = &c->tlb[mem_set(c, access)][(va >> 12) & (TLB_SIZE - 1)];
    if (EMU_LIKELY((mem_writes(access) ? t->write_page : t->read_page) == (va & ~(uint64_t)(MEM_PAGE - 1)) && mem_valid(c, t->generation)))
        return (uint8_t *)(t->addend + (uintptr_t)va);
    return mem_translate_miss(c, va, access, &host, &s) ? NULL : host;
}

EMU_PRIV int cpu_code_page(struct cpu *c, uint64_t va, struct phys_page *out, uint64_t *gpa)
{
    struct mem_mmu *m = mem_mmu(c);
    struct mem_itlb *t = &m->itlb[mem_itlb_index(va, c->cpl == 3)];
    uint64_t page = va & ~(uint64_t)(MEM_PAGE - 1);
    bool user = c->cpl == 3;
    struct walk w;
    uint32_t generation;
    uint64_t bit, *filter = mem_code_filter(c, va, &bit);
    *filter |= bit;
    if (t->page == page && t->user == user && mem_valid(c, t->generation)) {
        *out = t->phys;
        *gpa = t->gpa;
        return CPU_OK;
    }
    if (c->cr0 & CR0_PG) {
        if (mmu_walk(c, va, ACCESS_EXEC, &w))
            return CPU_FAULT;
        generation = w.global ? c->global_generation : c->tlb_generation;
        if (w.page_size > MEM_PAGE)
            mem_note_large(c, va, w.page_size);
    } else {
        w.gpa = va & 0xFFFFFFFFu & c->emu->a20_mask;
        generation = c->tlb_generation;
    }
    mem_resolve(c->emu, w.gpa, out);
    *gpa = w.gpa & ~(uint64_t)(MEM_PAGE - 1);
    t->page = page;
    t->user = user;
    t->generation = generation;
    t->phys = *out;
    t->gpa = *gpa;
    return CPU_OK;
}

EMU_PRIV const uint8_t *cpu_code_host(struct cpu *c, uint64_t va, uint32_t *generation)
{
    const struct mem_itlb *t = &mem_mmu(c)->itlb[mem_itlb_index(va, c->cpl == 3)];
    struct phys_page page;
    uint64_t gpa;
    *generation = c->code_generation;
    if ((c->mode == MODE_LONG && !cpu_canonical(c, va)) || cpu_code_page(c, va, &page, &gpa))
        return NULL;
    if (t->generation == c->global_generation)
        *generation = c->global_code_generation;
    return page.host;
}

/* ---- segments ---- */

static int mem_segment_fault(struct cpu *c, unsigned seg) { return cpu_raise_error(c, seg == SEG_SS ? EXC_SS : EXC_GP, 0); }

EMU_PRIV int cpu_linear(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, unsigned access, uint64_t *va)
{
    const struct seg *s = &c->seg[seg];
    uint64_t last = offset + (size - 1);
    if (c->mode == MODE_LONG) {
        *va = offset + (seg == SEG_FS || seg == SEG_GS ? s->base : 0);
        if (!cpu_canonical(c, *va) || !cpu_canonical(c, *va + (size - 1)))
            return mem_segment_fault(c, seg);
        return CPU_OK;
    }
    if (s->attr & SEG_UNUSABLE)
        return mem_segment_fault(c, seg);
    if (c->mode == MODE_PROT || c->mode == MODE_COMPAT) {
        if (s->attr & SEG_CODE) {
            if (mem_writes(access) || !(s->attr & SEG_WRITE_READ))
                return mem_segment_fault(c, seg);
        } else if (mem_writes(access) && !(s->attr & SEG_WRITE_READ)) {
            return mem_segment_fault(c, seg);
        }
    }
    if ((s->attr & (SEG_CODE | SEG_DOWN_CONFORM)) == SEG_DOWN_CONFORM) { /* expand-down: above the limit */
        if (offset <= s->limit || last > (s->attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu))
            return mem_segment_fault(c, seg);
    } else if (last > s->limit && (s->limit != 0xFFFFFFFFu || offset > 0xFFFFFFFFu)) {
        return mem_segment_fault(c, seg);
    }
    *va = (s->base + offset) & 0xFFFFFFFFu;
    return CPU_OK;
}

static int mem_check_alignment(struct cpu *c, uint64_t va, unsigned size)
{
    if (EMU_UNLIKELY(c->mode_key & KEY_AC) && (size == 2 || size == 4 || size == 8) && (va & (size - 1)))
        return cpu_raise_error(c, EXC_AC, 0);
    return CPU_OK;
}

EMU_PRIV int cpu_load(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t *value)
{
    uint64_t va;
    if (cpu_linear(c, seg, offset, size, ACCESS_READ, &va) || mem_check_alignment(c, va, size))
        return CPU_FAULT;
    return cpu_load_linear(c, va, size, value, ACCESS_READ);
}

EMU_PRIV int cpu_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t value)
{
    uint64_t va;
    if (cpu_linear(c, seg, offset, size, ACCESS_WRITE, &va) || mem_check_alignment(c, va, size))
        return CPU_FAULT;
    return cpu_store_linear(c, va, size, value, ACCESS_WRITE);
}

EMU_PRIV int cpu_load_bytes(struct cpu *c, unsigned seg, uint64_t offset, void *buf, unsigned size)
{
    uint64_t va;
    if (cpu_linear(c, seg, offset, size, ACCESS_READ, &va))
        return CPU_FAULT;
    return cpu_copy_linear(c, va, buf, size, ACCESS_READ);
}

EMU_PRIV int cpu_store_bytes(struct cpu *c, unsigned seg, uint64_t offset, const void *buf, unsigned size)
{
    uint64_t va;
    const uint8_t *p = buf;
    if (cpu_linear(c, seg, offset, size, ACCESS_WRITE, &va))
        return CPU_FAULT;
    while (size) {
        unsigned n = EMU_MIN(size, (unsigned)MEM_PAGE);
        if (mem_store_page(c, va, p, n, ACCESS_WRITE))
            return CPU_FAULT;
        va += n;
        p += n;
        size -= n;
    }
    return CPU_OK;
}

EMU_PRIV int cpu_check_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size)
{
    uint64_t va, mask = mem_linear_mask(c, ACCESS_WRITE);
    uint8_t *host;
    struct mem_slow *s;
    if (cpu_linear(c, seg, offset, size, ACCESS_WRITE, &va))
        return CPU_FAULT;
    if (mem_translate(c, va, ACCESS_WRITE, &host, &s))
        return CPU_FAULT;
    if ((va & (MEM_PAGE - 1)) + size > MEM_PAGE && mem_translate(c, (va + size - 1) & mask & ~(uint64_t)(MEM_PAGE - 1), ACCESS_WRITE, &host, &s))
        return CPU_FAULT;
    return CPU_OK;
}

/* ---- debugger ---- */

static bool mem_debug_copy(struct cpu *c, uint64_t va, uint8_t *buf, size_t size, bool write)
{
    while (size) {
        uint64_t gpa;
        size_t n = EMU_MIN(size, (size_t)(MEM_PAGE - (va & (MEM_PAGE - 1))));
        if (!cpu_debug_translate(c, va, &gpa))
            return false;
        if (!write)
            mem_read(c->emu, gpa, buf, n);
        else if (mem_load(c->emu, gpa, buf, n)) /* into ROM too: software breakpoints */
            return false;
        va += n;
        buf += n;
        size -= n;
    }
    return true;
}

EMU_PRIV bool cpu_debug_read(struct cpu *c, uint64_t va, void *buf, size_t size) { return mem_debug_copy(c, va, buf, size, false); }

EMU_PRIV bool cpu_debug_write(struct cpu *c, uint64_t va, const void *buf, size_t size)
{
    uint8_t tmp[64];
    const uint8_t *p = buf;
    while (size) {
        size_t n = EMU_MIN(size, sizeof tmp);
        memcpy(tmp, p, n);
        if (!mem_debug_copy(c, va, tmp, n, true))
            return false;
        va += n;
        p += n;
        size -= n;
    }
    return true;
}
