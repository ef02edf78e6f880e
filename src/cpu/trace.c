/* cpu/trace.c - from instructions to uops: building, linking and dropping traces.
 *
 * Contract   run.c asks trace_find() and trace_build() for the trace at an address, trace_promote() when a tier-1 trace is hot, and
 *            trace_link_stub() when an exit has found its target. Everyone who writes to memory ends in trace_code_written().
 * Theory     A trace is keyed by the block and offset of its first byte and by the mode key, so that one copy serves all mappings
 *            (CPU.md). It lies within one page; only an instruction that straddles two pages makes a trace of its own with both checked.
 *
 *            tier 1: one basic block, begins with a counter        ---hot---> tier 2: follows jumps and likely branches within the page
 *            step:   one instruction, all flags recorded (single-stepping, exact deadlines, interrupt shadows)
 *
 *            Building: decode along the path; flags' liveness backward (an instruction that may fault reads all; exits read what a
 *            peek at their targets says); then uops, each operation with the handler for its operand kinds, CMP/TEST/ALU + Jcc in one.
 *            What has no handler becomes a call of its plain-C function.
 *
 *            A trace begins with a head, whose `next` is its first uop's handler (or says that the trace is dead or was replaced); the handlers
 *            are noted while uops are emitted, and entered into their predecessors at the end, past what a pair or a run does itself.
 *
 *            Links: an exit's v.link first leads to its stub [uop_exit_resolve]. A resolved link within the page is unconditional; one to
 *            another page stays a stub [uop_exit_far] that checks generation and page; one with an old generation is good again if the target's
 *            address leads to the same host page as before.
 *            A CALL keeps the trace at its return address in its second unit, if that lies in the same page, for the RET that ends it.
 *            Memory comes from one arena that is thrown away whole when it is full: uops from its beginning upward, close together, and
 *            what running code seldom touches (descriptions, lists, stubs) from its end downward.
 * Invariants 1. page_flags has PAGE_HAS_CODE exactly for pages with a struct code_page that lists a live trace.
 *            2. incoming lists every link that leads to a trace from outside of it, so that a dead trace has none.
 *            3. A trace is at most TRACE_MAX_INSNS instructions: run.c's exact deadlines rely on it.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

#if defined(EMU_TORTURE)
enum { TRACE_ARENA_UNITS = 1 << 14, TRACE_HASH = 64, TRACE_PAGES = 16 };
#elif UINTPTR_MAX > 0xFFFFFFFFu
enum { TRACE_ARENA_UNITS = 1 << 22, TRACE_HASH = 1 << 19, TRACE_PAGES = 1 << 12 };
#else
enum { TRACE_ARENA_UNITS = 1 << 20, TRACE_HASH = 1 << 15, TRACE_PAGES = 1 << 12 };
#endif
enum { TRACE_PAGE = 4096, TRACE_LINE_SHIFT = 6, TRACE_RESERVE_UNITS = 2048, TRACE_TIER1_INSNS = 32, TRACE_PEEK = 6, TRACE_MAX_EXITS = TRACE_MAX_INSNS + 2 };

struct trace_link { /* one way into a trace */
    struct uop *u;    /* the exit (near), or the stub itself (far), or a CALL whose return it is (no stub) */
    struct uop *stub;
    struct trace_link *next;
};
struct trace_ref {
    struct trace *trace;
    uint64_t lines; /* 64-byte lines of the page that it was made from */
    struct trace_ref *next;
};
struct code_page {
    struct ram_block *block;
    uint64_t page_offset;
    struct trace_ref *refs;
    struct code_page *next;
};

struct trace_insn {
    struct insn insn;
    uint16_t pos;
    int32_t next;      /* offset of the next instruction on the path */
    int32_t target;    /* branches: the other way */
    uint8_t error;     /* decoding failed: vector */
    bool inverted;     /* JCC whose taken way is followed */
    uint16_t live;     /* flags somebody reads afterwards */
};

struct trace_exit {
    struct uop *u;
    int32_t target;
};

/* What is being built. */
struct trace_builder {
    struct cpu *c;
    struct trace_cache *tc;
    struct trace *trace;
    const uint8_t *bytes;
    unsigned size; /* of bytes: up to the page's end, or more for a straddling instruction */
    uint32_t key;
    unsigned tier;
    unsigned start;
    unsigned count;
    uint64_t lines;
    bool ended;    /* the last instruction leaves by itself */
    int32_t final; /* else: where the path goes on */
    unsigned kind; /* flag kind surely recorded now, or FLAGK_END */
    unsigned at;   /* index and position of the instruction being emitted */
    uint16_t pos;
    struct uop *first; /* uop; of each unit from there on: the handler, if a uop begins there, and the units that this goes on by */
    uop_fn handlers[TRACE_RESERVE_UNITS];
    uint8_t steps[TRACE_RESERVE_UNITS];
    struct uop *run, *run_end; /* first of a run of pushes or pops, and the end of the code then */
    unsigned run_kind, run_count;
    struct uop *pair; /* a move between cells that may become the first of a pair */
    struct trace_exit exits[TRACE_MAX_EXITS];
    unsigned exit_count;
};

struct trace_cache {
    struct emu *emu;
    struct uop *arena;
    size_t used, cold; /* units: code grows upward, what running code seldom touches downward from the end */
    struct trace *hash[TRACE_HASH];
    struct code_page *pages[TRACE_PAGES];
    struct trace_insn insns[TRACE_MAX_INSNS];
    struct trace_builder builder;
    struct trace_stats stats;
    bool flush_pending;
    bool plain; /* trace_set_plain() */
};

/* ---- cache ---- */

EMU_PRIV int trace_cache_create(struct emu *e)
{
    struct trace_cache *tc;
    if (e->traces)
        return 0;
    tc = emu_alloc(e, sizeof *tc);
    if (!tc)
        return EMU_ENOMEM;
    tc->arena = host_map_memory(TRACE_ARENA_UNITS * sizeof *tc->arena); /* untouched pages cost nothing */
    tc->cold = TRACE_ARENA_UNITS;
    if (!tc->arena) {
        emu_free(e, tc);
        return EMU_ENOMEM;
    }
    tc->emu = e;
    e->traces = tc;
    e->on_code_write = trace_code_written;
    e->on_map_change = tlb_machine_changed;
    return 0;
}

EMU_PRIV void trace_cache_destroy(struct emu *e)
{
    if (!e->traces)
        return;
    host_unmap_memory(e->traces->arena, TRACE_ARENA_UNITS * sizeof *e->traces->arena);
    emu_free(e, e->traces);
    e->traces = NULL;
}

/* Room from the arena, rounded up to units; the caller has made sure that there is enough. */
static void *trace_alloc(struct trace_cache *tc, size_t bytes)
{
    struct uop *p = tc->arena + tc->used;
    tc->used += (bytes + sizeof *p - 1) / sizeof *p;
    memset(p, 0, bytes);
    return p;
}

/* The same for what running code seldom touches. */
static void *trace_alloc_cold(struct trace_cache *tc, size_t bytes)
{
    size_t units = (bytes + sizeof *tc->arena - 1) / sizeof *tc->arena;
    tc->cold -= units;
    memset(tc->arena + tc->cold, 0, bytes);
    return tc->arena + tc->cold;
}

static bool trace_full(const struct trace_cache *tc, size_t units) { return tc->used + units > tc->cold; }

static size_t trace_hash_of(const struct ram_block *b, uint64_t offset, uint32_t key)
{
    uint64_t h = (offset ^ (uint64_t)b->id << 40 ^ (uint64_t)key << 20) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h >> 40) & (TRACE_HASH - 1);
}

EMU_PRIV struct trace *trace_find(struct emu *e, struct ram_block *block, uint64_t offset, uint32_t key)
{
    struct trace *t;
    for (t = e->traces->hash[trace_hash_of(block, offset, key)]; t; t = t->next)
        if (t->offset == offset && t->key == key && t->block == block)
            return t;
    return NULL;
}

static struct code_page **trace_page_slot(struct trace_cache *tc, const struct ram_block *b, uint64_t page_offset)
{
    uint64_t h = ((page_offset >> 12) ^ (uint64_t)b->id << 32) * UINT64_C(0x9E3779B97F4A7C15);
    struct code_page **p = &tc->pages[(size_t)(h >> 40) & (TRACE_PAGES - 1)];
    while (*p && ((*p)->block != b || (*p)->page_offset != page_offset))
        p = &(*p)->next;
    return p;
}

static void trace_add_ref(struct trace_cache *tc, struct trace *t, struct ram_block *b, uint64_t page_offset, uint64_t lines)
{
    struct code_page **slot = trace_page_slot(tc, b, page_offset);
    struct trace_ref *r;
    if (!*slot) {
        struct code_page *p = trace_alloc_cold(tc, sizeof *p);
        p->block = b;
        p->page_offset = page_offset;
        *slot = p;
    }
    r = trace_alloc_cold(tc, sizeof *r);
    r->trace = t;
    r->lines = lines;
    r->next = (*slot)->refs;
    (*slot)->refs = r;
    if (!(b->page_flags[page_offset >> 12] & PAGE_HAS_CODE)) {
        b->page_flags[page_offset >> 12] |= PAGE_HAS_CODE;
        tlb_protect_page(tc->emu, b, page_offset);
    }
}

static void trace_unhash(struct trace_cache *tc, struct trace *t)
{
    struct trace **p = &tc->hash[trace_hash_of(t->block, t->offset, t->key)];
    while (*p && *p != t)
        p = &(*p)->next;
    if (*p)
        *p = t->next;
}

static void trace_kill(struct trace_cache *tc, struct trace *t)
{
    struct trace_link *l;
    if (t->dead)
        return;
    trace_unhash(tc, t);
    t->dead = true;
    t->head->next = (uop_then)uop_dead;
    for (l = t->incoming; l; l = l->next) {
        if (!l->stub)
            UOP_PAGE(l->u)->v.link = NULL;
        else if (l->u == l->stub)
            l->stub->next = (uop_then)uop_exit_resolve;
        else
            l->u->v.link = l->stub;
    }
    t->incoming = NULL;
    tc->stats.invalidations++;
}

EMU_PRIV void trace_code_written(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size)
{
    struct trace_cache *tc = e->traces;
    uint64_t page, end = offset + size;
    bool hit = false;
    unsigned i;
    if (!tc || !size)
        return;
    for (page = offset & ~(uint64_t)(TRACE_PAGE - 1); page < end; page += TRACE_PAGE) {
        struct code_page **slot, *p;
        struct trace_ref **r;
        uint64_t lines, from = offset > page ? offset - page : 0, to = EMU_MIN(end - page, (uint64_t)TRACE_PAGE);
        if (!(b->page_flags[page >> 12] & PAGE_HAS_CODE))
            continue;
        slot = trace_page_slot(tc, b, page);
        p = *slot;
        if (!p) {
            b->page_flags[page >> 12] &= (uint8_t)~PAGE_HAS_CODE;
            continue;
        }
        lines = (UINT64_MAX << (from >> TRACE_LINE_SHIFT)) & (UINT64_MAX >> (63 - ((to - 1) >> TRACE_LINE_SHIFT)));
        for (r = &p->refs; *r;) {
            struct trace *t = (*r)->trace;
            if (((*r)->lines & lines) && !t->dead) {
                trace_kill(tc, t);
                hit = true;
            }
            if (t->dead)
                *r = (*r)->next;
            else
                r = &(*r)->next;
        }
        if (!p->refs) {
            *slot = p->next;
            b->page_flags[page >> 12] &= (uint8_t)~PAGE_HAS_CODE;
        }
    }
    if (hit)
        for (i = 0; i < e->cpu_count; i++)
            e->cpus[i]->attention |= CPU_ATTENTION_CODE;
}

static void trace_flush(struct emu *e)
{
    struct trace_cache *tc = e->traces;
    unsigned i;
    for (i = 0; i < TRACE_PAGES; i++) {
        struct code_page *p;
        for (p = tc->pages[i]; p; p = p->next)
            p->block->page_flags[p->page_offset >> 12] &= (uint8_t)~PAGE_HAS_CODE;
        tc->pages[i] = NULL;
    }
    memset(tc->hash, 0, sizeof tc->hash);
    tc->used = 0;
    tc->cold = TRACE_ARENA_UNITS;
    tc->stats.flushes++;
    tc->flush_pending = false;
    for (i = 0; i < e->cpu_count; i++) {
        struct cpu *c = e->cpus[i];
        memset(c->jumps, 0, UOP_JUMPS_ALL * sizeof *c->jumps);
        memset(c->returns, 0, sizeof c->returns);
        c->leave_stub = c->promote = NULL;
    }
}

/* Traces may be running: run.c does it when they are left. */
EMU_PRIV void trace_flush_all(struct emu *e)
{
    unsigned i;
    if (!e->traces)
        return;
    if (!e->current_cpu) {
        trace_flush(e);
        return;
    }
    e->traces->flush_pending = true;
    for (i = 0; i < e->cpu_count; i++)
        e->cpus[i]->attention |= CPU_ATTENTION_CODE;
}

EMU_PRIV void trace_set_plain(struct emu *e, bool plain)
{
    e->traces->plain = plain;
    trace_flush_all(e);
}

EMU_PRIV void trace_flush_pending(struct emu *e)
{
    if (EMU_UNLIKELY(e->traces->flush_pending))
        trace_flush(e);
}

EMU_PRIV struct trace_stats *trace_stats_of(struct emu *e) { return &e->traces->stats; }

EMU_PRIV void trace_get_stats(struct emu *e, struct trace_stats *out)
{
    unsigned i;
    memset(out, 0, sizeof *out);
    if (!e->traces)
        return;
    *out = e->traces->stats;
    for (i = 0; i < e->cpu_count; i++) {
        const struct cpu *c = e->cpus[i];
        out->slow_path += c->slow_paths;
        out->misses += c->fast_misses;
        out->insns_step += c->step_insns;
        out->insns_tier1 += c->tier1_insns;
        out->insns_tier2 += c->icount - c->step_insns - EMU_MIN(c->tier1_insns, c->icount - c->step_insns);
    }
}

/* ---- links ---- */

static void trace_add_link(struct trace_cache *tc, struct trace *t, struct uop *u, struct uop *stub)
{
    struct trace_link *l = trace_alloc_cold(tc, sizeof *l);
    l->u = u;
    l->stub = stub;
    l->next = t->incoming;
    t->incoming = l;
}

EMU_PRIV void trace_link_stub(struct cpu *c, struct uop *stub, struct trace *t)
{
    struct trace_cache *tc = c->emu->traces;
    if (trace_full(tc, 16) || t->tier == TRACE_STEP || t->dead)
        return;
    if (t->straddles) /* its second page is to be checked each time */
        stub->misc = 1;
    if (stub->misc) { /* far */
        struct uop_page *p = UOP_PAGE(stub);
        if (UOP_IS(stub, uop_exit_far) && p->v.link != t->head)
            stub->next = (uop_then)uop_exit_resolve; /* the old entry stays in the old target's list: harmless, it only unlinks again */
        p->page = c->leave_base;
        p->addend = (uintptr_t)cpu_code_host(c, c->code_base + (c->code_size == 8 ? 0 : c->seg_base[SEG_CS]), &p->generation);
        if (t->straddles)
            p->addend = 0;
        stub->v.imm = c->code_base;
        if (!UOP_IS(stub, uop_exit_far) || p->v.link != t->head) {
            p->v.link = t->head;
            stub->next = (uop_then)uop_exit_far;
            trace_add_link(tc, t, stub, stub);
        }
        return;
    }
    stub->v.link->v.link = t->head;
    trace_add_link(tc, t, stub->v.link, stub);
}

EMU_PRIV void trace_link_return(struct cpu *c, struct uop *call, uint64_t rip)
{
    struct trace_cache *tc = c->emu->traces;
    struct phys_page page;
    struct trace *t;
    uint64_t gpa;
    if (UOP_PAGE(call)->v.link || trace_full(tc, 16) || cpu_code_page(c, rip, &page, &gpa) || !page.block || page.partial)
        return;
    t = trace_find(c->emu, page.block, page.block_offset + (rip & (TRACE_PAGE - 1)), c->mode_key);
    if (!t || t->straddles || t->tier == TRACE_STEP)
        return;
    UOP_PAGE(call)->v.link = t->head;
    trace_add_link(tc, t, call, NULL);
}

/* ---- decoding along the path, and flags ---- */

static uint64_t trace_lines(unsigned from, unsigned to)
{
    if (from >= TRACE_PAGE)
        return 0;
    if (to > TRACE_PAGE)
        to = TRACE_PAGE;
    return (UINT64_MAX << (from >> TRACE_LINE_SHIFT)) & (UINT64_MAX >> (63 - ((to - 1) >> TRACE_LINE_SHIFT)));
}

static bool trace_may_fault(const struct insn *i)
{
    const struct insn_row *r = i->row;
    if (r->how == HOW_CALL)
        return !(r->attr & ROW_NO_RIP);
    if (r->how == HOW_VEC)
        return i->memory || !(r->attr & ROW_NO_RIP);
    switch (r->op) {
    case OP_LEA: case OP_NOP: return false;
    case OP_PUSH: case OP_POP: case OP_LEAVE: case OP_CALL: case OP_CALL_RM: case OP_RET: case OP_DIV: case OP_IDIV: case OP_STRING: case OP_JMP_RM:
    case OP_LOOP: return true;
    default: return i->memory;
    }
}

/* Flags that an instruction needs, if `after` are wanted after it. */
static unsigned trace_flags_needed(const struct insn *i, unsigned after)
{
    const struct insn_row *r = i->row;
    if (trace_may_fault(i))
        return FLAGS_ARITH;
    if (r->how == HOW_INT)
        switch (r->op) {
        case OP_INC: case OP_DEC: return after & FLAG_CF; /* the rest is written, CF is passed on */
        case OP_BT: case OP_BTS: case OP_BTR: case OP_BTC: return after & (FLAGS_ARITH & ~FLAG_CF);
        case OP_ROL: case OP_ROR: return after;
        case OP_SHLD: case OP_SHRD:
            return r->opnd[2] == OPND_CL || (i->imm & 31) == 0 ? after : after & ~(unsigned)FLAGS_ARITH;
        case OP_SHL: case OP_SHR: case OP_SAL: case OP_SAR:
            return r->opnd[1] == OPND_CL ? after : (i->imm & 31) == 0 ? after : after & ~(unsigned)FLAGS_ARITH;
        default: break;
        }
    return (after & ~(unsigned)r->flags_written) | r->flags_read;
}

/* Flags that the code at offset of the page may read before it writes them. */
static unsigned trace_peek(struct trace_builder *b, int32_t offset)
{
    unsigned live = 0, rest = FLAGS_ARITH, n, from = (unsigned)offset;
    struct insn i;
    if (b->tier == TRACE_STEP || offset < 0 || offset >= TRACE_PAGE || (b->key & KEY_PARTIAL) || b->trace->straddles)
        return FLAGS_ARITH;
    for (n = 0; n < TRACE_PEEK && rest; n++) {
        if (from >= b->size || cpu_decode(b->c, b->key, b->bytes + from, b->size - from, &i)) {
            live |= rest;
            rest = 0;
            break;
        }
        if (trace_may_fault(&i) || (i.row->attr & ROW_ENDS) || i.row->op == OP_JCC) {
            live |= rest;
            rest = 0;
            break;
        }
        live |= trace_flags_needed(&i, 0) & rest;
        if (i.row->how == HOW_INT && (i.row->op == OP_ROL || i.row->op == OP_ROR || i.row->op == OP_SHLD || i.row->op == OP_SHRD || i.row->opnd[1] == OPND_CL)) {
            live |= rest;
            rest = 0;
            break;
        }
        rest &= ~(unsigned)i.row->flags_written;
        from += i.length;
    }
    if (n == TRACE_PEEK)
        live |= rest;
    b->lines |= trace_lines((unsigned)offset, EMU_MAX(from, (unsigned)offset + 1) + 15);
    return live;
}

static bool trace_near(const struct trace_builder *b, int32_t target)
{
    return target >= 0 && target < TRACE_PAGE && !(b->key & KEY_PARTIAL) && !b->trace->straddles;
}

static bool trace_on_path(const struct trace_builder *b, int32_t offset)
{
    unsigned k;
    for (k = 0; k < b->count; k++)
        if (b->tc->insns[k].pos == offset)
            return true;
    return false;
}

static unsigned trace_runs(const struct trace_builder *b, int32_t offset)
{
    struct trace *t;
    if (!trace_near(b, offset))
        return 0;
    t = trace_find(b->c->emu, b->trace->block, (b->trace->offset & ~(uint64_t)(TRACE_PAGE - 1)) + (unsigned)offset, b->key);
    return !t ? 0 : t->tier == TRACE_TIER2 ? TRACE_HOT + 1 : (unsigned)(TRACE_HOT - t->head[1].disp) + 1;
}

/* Does this near branch keep the default width of the mode? Others go the slow way, since they cut RIP. */
static bool trace_plain_branch(const struct trace_builder *b, const struct insn *i)
{
    unsigned size = b->key & KEY_CS_SIZE;
    return size == KEY_CS64 || (size == KEY_CS32 ? i->opsize == 4 : i->opsize == 2);
}

/* CLI, STI, STAC and CLAC by their handlers? */
static bool trace_plain_system(const struct trace_builder *b, const struct insn *i)
{
    if (i->row->call != sys_cli && i->row->call != sys_sti && i->row->call != sys_clac)
        return false;
    return (b->key & (KEY_CS_SIZE | KEY_KERNEL | KEY_DEBUG)) == (KEY_CS64 | KEY_KERNEL) && b->tier != TRACE_STEP && !b->trace->straddles && !b->tc->plain;
}

static bool trace_ends(const struct trace_builder *b, const struct insn *i)
{
    return (i->row->attr & ROW_ENDS) && (i->row->call == sys_clac || !trace_plain_system(b, i));
}

static void trace_decode_path(struct trace_builder *b)
{
    unsigned max = b->tier == TRACE_STEP ? 1 : b->tier == TRACE_TIER1 ? TRACE_TIER1_INSNS : TRACE_MAX_INSNS;
    int32_t at = (int32_t)b->start;
    while (b->count < max) {
        struct trace_insn *t = &b->tc->insns[b->count];
        const struct insn_row *r;
        int error;
        b->final = at;
        if (at < 0 || at >= TRACE_PAGE || (b->count && trace_on_path(b, at)))
            return;
        error = cpu_decode(b->c, b->key, b->bytes + at, b->size - (unsigned)at, &t->insn);
        if (error < 0) /* straddles the page: a trace of its own */
            return;
        t->pos = (uint16_t)at;
        t->error = (uint8_t)error;
        t->inverted = false;
        t->target = -1;
        b->count++;
        if (error) {
            b->lines |= trace_lines((unsigned)at, (unsigned)at + 15);
            b->ended = true;
            return;
        }
        b->lines |= trace_lines((unsigned)at, (unsigned)at + t->insn.length);
        r = t->insn.row;
        at += t->insn.length;
        t->next = at;
        if (r->how == HOW_INT && (r->op == OP_JCC || r->op == OP_JMP || r->op == OP_CALL))
            t->target = (int32_t)((uint32_t)at + (uint32_t)t->insn.imm);
        if (r->how == HOW_INT && r->op == OP_JMP && trace_plain_branch(b, &t->insn)) {
            b->final = t->target;
            if (b->tier != TRACE_TIER2 || !trace_near(b, t->target))
                return;
            at = t->next = t->target;
            continue;
        }
        if (trace_ends(b, &t->insn)) {
            b->ended = true;
            return;
        }
        b->final = at;
        if (r->how == HOW_INT && r->op == OP_JCC) {
            if (!trace_plain_branch(b, &t->insn)) {
                b->ended = true;
                return;
            }
            if (b->tier != TRACE_TIER2 || t->target == (int32_t)b->start)
                return;
            if (trace_near(b, t->target) && !trace_on_path(b, t->target) && trace_runs(b, t->target) > 4 * trace_runs(b, at)) {
                t->inverted = true;
                at = t->target;
                t->target = t->next;
                t->next = at;
                b->final = at;
            }
        }
    }
}

static void trace_find_live(struct trace_builder *b)
{
    unsigned live = b->ended ? FLAGS_ARITH : trace_peek(b, b->final), k;
    for (k = b->count; k-- > 0;) {
        struct trace_insn *t = &b->tc->insns[k];
        if (t->error) {
            live = FLAGS_ARITH;
            t->live = FLAGS_ARITH;
            continue;
        }
        if (t->insn.row->how == HOW_INT && t->insn.row->op == OP_JCC)
            live |= trace_peek(b, t->target);
        t->live = (uint16_t)live;
        live = trace_flags_needed(&t->insn, live);
    }
}

/* ---- emitting ---- */

#define TRACE_KIND_R (UOP_KINDS - 1)
#define TRACE_CELL_TEMP UOP_GPR(GPR_TEMP)
#define TRACE_CELL_TEMP2 ((uint16_t)offsetof(struct cpu, vtmp[1]))

static unsigned trace_kind(unsigned reg)
{
#if EMU_SLOTS
    if (reg == SLOT_REG0)
        return 0;
    if (reg == SLOT_REG1)
        return 1;
    if (reg == SLOT_REG2)
        return 2;
#if EMU_SLOTS > 3
    if (reg == SLOT_REG3)
        return 3;
#endif
#endif
    (void)reg;
    return TRACE_KIND_R;
}

static void trace_set_handler(struct trace_builder *b, const struct uop *u, uop_fn fn, unsigned step)
{
    b->handlers[u - b->first] = fn;
    b->steps[u - b->first] = (uint8_t)step;
}

static struct uop *trace_emit(struct trace_builder *b, uop_fn fn)
{
    struct uop *u = trace_alloc(b->tc, sizeof *u);
    trace_set_handler(b, u, fn, 1);
    u->pos = b->pos;
    u->insn = (uint8_t)b->at;
    u->count = (uint8_t)(b->at + 1);
    return u;
}

static struct uop *trace_emit_mem(struct trace_builder *b, uop_fn fn)
{
    struct uop *u = trace_emit(b, fn);
    struct uop_page *p = trace_alloc(b->tc, sizeof(struct uop));
    trace_set_handler(b, u, fn, 2);
    b->handlers[u + 1 - b->first] = NULL;
    p->page = UINT64_MAX;
    p->seg = SEG_DS;
    p->v.self = (uop_then)fn;
    return u;
}

static struct uop *trace_emit_ab(struct trace_builder *b, uop_fn fn, uint16_t cell_a, uint16_t cell_b)
{
    struct uop *u = trace_emit(b, fn);
    u->a = cell_a;
    u->b = cell_b;
    return u;
}

static void trace_add_exit(struct trace_builder *b, struct uop *u, int32_t target)
{
    b->exits[b->exit_count].u = u;
    b->exits[b->exit_count++].target = target;
}

static struct insn *trace_keep_insn(struct trace_builder *b, const struct insn *i)
{
    struct insn *copy = trace_alloc_cold(b->tc, sizeof *copy);
    *copy = *i;
    return copy;
}

static void trace_spill(struct trace_builder *b, unsigned reg)
{
    if (trace_kind(reg) != TRACE_KIND_R)
        trace_emit(b, handler_spill(trace_kind(reg)))->a = UOP_GPR(reg);
}
static void trace_reload(struct trace_builder *b, unsigned reg)
{
    if (trace_kind(reg) != TRACE_KIND_R)
        trace_emit(b, handler_reload(trace_kind(reg)))->a = UOP_GPR(reg);
}

/* A memory uop may write to no cell of a slot: on its slow way slots are spilled after it. It gets a copy of the slot in TEMP2 (other registers their
 * own cell), whose low bytes go back afterwards. */
static uint16_t trace_copy_slot(struct trace_builder *b, unsigned reg)
{
    if (trace_kind(reg) == TRACE_KIND_R)
        return UOP_GPR(reg);
    trace_emit_ab(b, handler_mov_rr(8, 8, false, TRACE_KIND_R, trace_kind(reg)), TRACE_CELL_TEMP2, UOP_GPR(reg));
    return TRACE_CELL_TEMP2;
}
static void trace_put_slot(struct trace_builder *b, unsigned reg, unsigned size)
{
    if (trace_kind(reg) != TRACE_KIND_R)
        trace_emit_ab(b, handler_mov_rr(size, size, false, trace_kind(reg), TRACE_KIND_R), UOP_GPR(reg), TRACE_CELL_TEMP2);
}

/* A memory operand, reduced to what handlers take: b + (x << scale) + disp. */
struct trace_address {
    unsigned kb, kx;
    uint16_t b, x;
    uint8_t scale, seg;
    bool index;
    int32_t disp;
};

static void trace_address_cell(struct trace_address *a, uint16_t cell, int32_t disp)
{
    a->kb = TRACE_KIND_R;
    a->b = cell;
    a->index = false;
    a->disp = disp;
}

/* base + index into TEMP; address-sized 4 or 8. */
static void trace_emit_lea(struct trace_builder *b, struct trace_address *a, unsigned size)
{
    struct uop *u = trace_emit(b, handler_lea(size, a->index, TRACE_KIND_R, a->kb, a->kx));
    u->a = TRACE_CELL_TEMP;
    u->b = a->b;
    u->x = a->x;
    u->scale = a->scale;
    u->disp = a->disp;
    trace_address_cell(a, TRACE_CELL_TEMP, 0);
}

static bool trace_fits32(int64_t v) { return v >= INT32_MIN && v <= INT32_MAX; }

static bool trace_seg_flat(const struct trace_builder *b, unsigned seg, unsigned access)
{
    if (seg > SEG_DS || (seg == SEG_CS && access != ACCESS_READ))
        return false;
    return (b->key & (KEY_FLAT_ES << seg)) != 0;
}

/* The raw sum of registers and displacement; false: displacement too large. */
static bool trace_plain_address(const struct trace_builder *b, const struct insn *i, struct trace_address *a)
{
    int64_t disp = i->disp;
    a->seg = i->seg;
    a->scale = i->scale;
    a->index = i->index != GPR_ZERO;
    a->kx = trace_kind(i->index);
    a->x = UOP_GPR(i->index);
    if (i->rip_relative) {
        a->kb = TRACE_KIND_R;
        a->b = (uint16_t)offsetof(struct cpu, code_base);
        disp += b->pos + i->length;
    } else {
        a->kb = trace_kind(i->base);
        a->b = UOP_GPR(i->base);
    }
    a->disp = (int32_t)disp;
    return trace_fits32(disp);
}

/* Emits what the address needs. index_ok: the handler takes an index; plain_base: only a register-file base. */
static void trace_emit_address(struct trace_builder *b, const struct insn *i, unsigned size, unsigned access, bool index_ok, bool plain_base, struct trace_address *a)
{
    bool long_mode = (b->key & KEY_CS_SIZE) == KEY_CS64, fits = trace_plain_address(b, i, a);
    if (long_mode && i->addrsize == 8) {
        if (!fits) { /* moffs, or a displacement at the edge */
            struct uop *u;
            if (i->base == GPR_ZERO && i->index == GPR_ZERO && !i->rip_relative && i->seg < SEG_FS) {
                u = trace_emit(b, handler_mov_ri(8, TRACE_KIND_R));
                u->a = TRACE_CELL_TEMP;
                u->v.imm = (uint64_t)i->disp;
                trace_address_cell(a, TRACE_CELL_TEMP, 0);
                return;
            }
            goto checked;
        }
        if (i->seg >= SEG_FS) {
            uint16_t seg_cell = (uint16_t)(offsetof(struct cpu, seg_base) + 8u * i->seg);
            if (a->index)
                trace_emit_lea(b, a, 8);
            if (a->kb == TRACE_KIND_R && a->b == UOP_GPR(GPR_ZERO)) {
                trace_address_cell(a, seg_cell, a->disp);
            } else {
                a->index = true;
                a->kx = a->kb;
                a->x = a->b;
                a->scale = 0;
                a->kb = TRACE_KIND_R;
                a->b = seg_cell;
            }
        }
    } else if (i->addrsize == 4 && fits && (long_mode ? i->seg < SEG_FS : trace_seg_flat(b, i->seg, access))) {
        if (!long_mode && i->base == GPR_ZERO && i->index == GPR_ZERO && i->disp >= 0)
            trace_address_cell(a, UOP_GPR(GPR_ZERO), a->disp);
        else
            trace_emit_lea(b, a, 4);
        return;
    } else {
        struct uop *u;
checked:
        u = trace_emit(b, uop_agen);
        u->misc = (uint8_t)size;
        u->scale = (uint8_t)access;
        trace_address_cell(a, TRACE_CELL_TEMP, 0); /* trace_attach_insns() gives it the instruction */
        return;
    }
    if ((a->index && !index_ok) || (plain_base && (a->index || a->kb != TRACE_KIND_R)))
        trace_emit_lea(b, a, 8);
}

static void trace_set_address(struct uop *u, const struct trace_address *a)
{
    u->b = a->b;
    u->x = a->x;
    u->scale = a->index ? a->scale : 0;
    u->disp = a->disp;
    UOP_PAGE(u)->seg = a->seg;
}

/* Loads an operand of an instruction into a register-file cell, zero-extended. */
static void trace_emit_load_cell(struct trace_builder *b, const struct insn *i, unsigned size, uint16_t cell)
{
    struct trace_address a;
    struct uop *u;
    trace_emit_address(b, i, size, ACCESS_READ, true, false, &a);
    u = trace_emit_mem(b, handler_load(size == 1 ? LOAD_Z1 : size == 2 ? LOAD_Z2 : size == 4 ? LOAD_4 : LOAD_8, a.index, TRACE_KIND_R, a.kb, a.kx));
    u->a = cell;
    trace_set_address(u, &a);
}

/* MOVS, STOS or LODS of one element, or in 64-bit mode REP MOVS or REP STOS, whose addresses are RSI and RDI, or ESI and EDI, as they are? */
static bool trace_plain_string(const struct trace_builder *b, const struct insn *i)
{
    unsigned op = i->opcode & 0xFEu, code = b->key & KEY_CS_SIZE;
    if (i->row->call != string_run || (op != 0xA4 && op != 0xAA && op != 0xAC) || b->tc->plain)
        return false;
    if ((i->prefixes & (INSN_REP | INSN_REPNE)) && (op == 0xAC || code != KEY_CS64))
        return false;
    if (b->tier == TRACE_STEP || (b->key & (KEY_AC | KEY_DEBUG)))
        return false;
    if (code == KEY_CS64)
        return i->addrsize == 8 && i->seg != SEG_FS && i->seg != SEG_GS;
    return code == KEY_CS32 && i->addrsize == 4 && i->seg == SEG_DS && (b->key & KEY_FLAT_DS) && (b->key & KEY_FLAT_ES);
}

/* Of those that trace_plain_system() knows; false: an STI at the end of its trace, whose shadow must last. */
static bool trace_emit_system(struct trace_builder *b, const struct insn *i)
{
    struct uop *u;
    if (i->row->call == sys_clac) {
        int32_t next = b->tc->insns[b->at].next;
        u = trace_emit(b, (i->modrm & 7) == 3 ? uop_stac : uop_clac);
        u->disp = next;
        trace_add_exit(b, u, next);
        return true;
    }
    if (i->row->call == sys_sti && b->at + 1 == b->count)
        return false;
    u = trace_emit(b, i->row->call == sys_cli ? uop_cli : uop_sti);
    u->v.ptr = i;
    return true;
}

static void trace_emit_call(struct trace_builder *b, const struct insn *i)
{
    bool string = trace_plain_string(b, i);
    struct uop *u;
    if (i->row->call == sys_pushf && i->opsize == 8 && (b->key & (KEY_CS_SIZE | KEY_AC)) == KEY_CS64 && !b->tc->plain) {
        trace_emit(b, uop_flags);
        u = trace_emit_mem(b, handler_push(8, TRACE_KIND_R));
        u->a = TRACE_CELL_TEMP;
        UOP_PAGE(u)->seg = SEG_SS;
        return;
    }
    if (trace_plain_system(b, i) && trace_emit_system(b, i))
        return;
    u = trace_emit(b, string && (i->prefixes & (INSN_REP | INSN_REPNE)) ? uop_string_repeat : string ? uop_string_element
                      : i->row->attr & ROW_ENDS ? uop_call_end : uop_call);
    if (string) {
        u->a = i->opcode & 0xFEu;
        u->misc = i->opcode & 1 ? i->opsize : 1;
        u->scale = i->addrsize;
    }
    u->v.ptr = i; /* the copy follows the code: see trace_attach_insns() */
    b->kind = FLAGK_END;
}

static void trace_emit_raise(struct trace_builder *b, unsigned vector, int32_t error)
{
    struct uop *u = trace_emit(b, uop_raise);
    u->misc = (uint8_t)vector;
    u->disp = error;
}

/* Kind that an operation's recording handler leaves. */
static unsigned trace_kind_of_alu(unsigned op, unsigned size)
{
    unsigned log = size == 8 ? 3 : size >> 1;
    return (op == OP_ADD ? FLAGK_ADD : op == OP_SUB || op == OP_CMP ? FLAGK_SUB : FLAGK_LOGIC) | log;
}

/* The condition of a JCC, and its exit. */
static void trace_emit_jcc(struct trace_builder *b, const struct trace_insn *t)
{
    unsigned cc = (t->insn.opcode & 15u) ^ (t->inverted ? 1u : 0u);
    struct uop *u = trace_emit(b, handler_jcc(b->kind, cc));
    u->misc = (uint8_t)cc;
    trace_add_exit(b, u, t->target);
}

/* CMP, TEST or arithmetic and the JCC after it as one uop; false: not possible. */
static bool trace_emit_fused(struct trace_builder *b, const struct trace_insn *t, const struct trace_insn *j)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, size = interp_size(i, 0), cc = (j->insn.opcode & 15u) ^ (j->inverted ? 1u : 0u), ra = 0, rb = 0;
    bool flags = j->live != 0, high_a = false, high_b = false, immediate, memory = interp_is_memory(i, 0) || interp_is_memory(i, 1);
    int64_t imm = (int64_t)i->imm;
    uop_fn fn = NULL;
    struct uop *u;
    if ((op == OP_INC || op == OP_DEC) && !(j->live & FLAG_CF)) {
        if (memory || ((cc & 0xE) != 4 && (cc & 0xE) != 8)) /* CF of before would be asked for */
            return false;
        ra = interp_reg(i, 0, &high_a);
        if (high_a)
            return false;
        op = op == OP_INC ? OP_ADD : OP_SUB;
        imm = 1;
        immediate = true;
    } else if (op == OP_CMP || op == OP_TEST || op == OP_ADD || op == OP_SUB || op == OP_AND) {
        unsigned o1 = i->row->opnd[1];
        immediate = o1 == OPND_Ib || o1 == OPND_Ibs || o1 == OPND_Iz;
    } else {
        return false;
    }
    if (memory) {
        struct trace_address a;
        if (!immediate || (op != OP_CMP && op != OP_TEST) || !(fn = handler_cmp_mi_jcc(op, size, flags, cc, 0)))
            return false;
        trace_emit_address(b, i, size, ACCESS_READ, false, false, &a);
        u = trace_emit_mem(b, handler_cmp_mi_jcc(op, size, flags, cc, a.kb));
        trace_set_address(u, &a);
        u->a = (uint16_t)imm;
        u->x = (uint16_t)((uint64_t)imm >> 16);
    } else {
        ra = interp_reg(i, 0, &high_a);
        if (!immediate)
            rb = interp_reg(i, 1, &high_b);
        if (high_a || high_b)
            return false;
        if (immediate)
            fn = op == OP_CMP ? handler_cmp_jcc_ri(size, flags, cc, trace_kind(ra)) : handler_alu_jcc_ri(op, size, flags, cc, trace_kind(ra));
        else if (op == OP_CMP)
            fn = handler_cmp_jcc_rr(size, flags, cc, trace_kind(ra), trace_kind(rb));
        else if (op == OP_TEST && ra == rb)
            fn = handler_test_jcc(size, flags, cc, trace_kind(ra));
        if (!fn)
            return false;
        u = trace_emit_ab(b, fn, UOP_GPR(ra), UOP_GPR(rb));
        u->disp = (int32_t)imm;
    }
    u->count = (uint8_t)(b->at + 2);
    if (flags)
        b->kind = trace_kind_of_alu(op, size);
    trace_add_exit(b, u, j->target);
    return true;
}

static bool trace_is_immediate(unsigned kind) { return kind == OPND_Ib || kind == OPND_Ibs || kind == OPND_Iw || kind == OPND_Iz || kind == OPND_Iv; }

static bool trace_emit_alu(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, size = interp_size(i, 0), ra, rb;
    bool flags = t->live != 0, high = false, high_b = false, compare = op == OP_CMP || op == OP_TEST, cells = size < 4 && !compare;
    uint16_t cell;
    uop_fn fn;
    struct uop *u;
    struct trace_address a;
    if (interp_is_memory(i, 0)) {
        if (trace_is_immediate(i->row->opnd[1])) {
            if (!handler_alu_mi(op, size, flags, 0))
                return false;
            trace_emit_address(b, i, size, compare ? ACCESS_READ : ACCESS_WRITE, false, false, &a);
            u = trace_emit_mem(b, handler_alu_mi(op, size, flags, a.kb));
            u->v.imm = i->imm;
        } else {
            rb = interp_reg(i, 1, &high);
            if (high || !handler_alu_mr(op, size, flags, 0, 0))
                return false;
            if (cells)
                trace_spill(b, rb);
            trace_emit_address(b, i, size, compare ? ACCESS_READ : ACCESS_WRITE, false, cells, &a);
            u = trace_emit_mem(b, handler_alu_mr(op, size, flags, trace_kind(rb), a.kb));
            u->a = UOP_GPR(rb);
        }
        trace_set_address(u, &a);
    } else if (interp_is_memory(i, 1)) {
        ra = interp_reg(i, 0, &high);
        if (high || !handler_alu_rm(op, size, flags, 0, 0))
            return false;
        cell = cells ? trace_copy_slot(b, ra) : UOP_GPR(ra);
        trace_emit_address(b, i, size, ACCESS_READ, false, cells, &a);
        u = trace_emit_mem(b, handler_alu_rm(op, size, flags, trace_kind(ra), a.kb));
        u->a = cell;
        trace_set_address(u, &a);
        if (cells)
            trace_put_slot(b, ra, size);
    } else {
        ra = interp_reg(i, 0, &high);
        if (trace_is_immediate(i->row->opnd[1])) {
            fn = handler_alu_ri(op, size, flags, high ? TRACE_KIND_R : trace_kind(ra));
            if (high && !compare)
                fn = handler_alu_high(op, trace_kind(ra));
            if (!fn)
                return false;
            if (compare && !flags)
                return true;
            if (high && compare) { /* AH..BH by way of TEMP */
                trace_emit_ab(b, handler_mov_rr(8, 0, false, TRACE_KIND_R, trace_kind(ra)), TRACE_CELL_TEMP, UOP_GPR(ra));
                u = trace_emit_ab(b, fn, TRACE_CELL_TEMP, 0);
                u->disp = (int32_t)i->imm;
                b->kind = trace_kind_of_alu(op, size);
                return true;
            }
            u = trace_emit_ab(b, fn, UOP_GPR(ra), 0);
            u->disp = (int32_t)i->imm;
            flags = flags || high;
        } else {
            rb = interp_reg(i, 1, &high_b);
            fn = handler_alu_rr(op, size, flags, trace_kind(ra), trace_kind(rb));
            if (high || high_b || !fn)
                return false;
            if (compare && !flags)
                return true;
            if (cells) {
                trace_spill(b, ra);
                trace_spill(b, rb);
            }
            trace_emit_ab(b, fn, UOP_GPR(ra), UOP_GPR(rb));
            if (cells)
                trace_reload(b, ra);
        }
    }
    if (flags)
        b->kind = trace_kind_of_alu(op, size);
    return true;
}

static bool trace_emit_mov(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned size = interp_size(i, 0), src = interp_size(i, 1), ra = 0, rb = 0, op = i->row->op;
    bool high = false, high_b = false, sx = op == OP_MOVSX;
    struct trace_address a;
    struct uop *u;
    if (interp_is_memory(i, 0)) {
        if (trace_is_immediate(i->row->opnd[1])) {
            trace_emit_address(b, i, size, ACCESS_WRITE, false, false, &a);
            u = trace_emit_mem(b, handler_store_imm(size, a.kb));
            u->v.imm = i->imm;
        } else {
            rb = interp_reg(i, 1, &high_b);
            if (high_b)
                return false;
            trace_emit_address(b, i, size, ACCESS_WRITE, true, false, &a);
            u = trace_emit_mem(b, handler_store(size, a.index, trace_kind(rb), a.kb, a.kx));
            u->a = UOP_GPR(rb);
        }
        trace_set_address(u, &a);
        return true;
    }
    ra = interp_reg(i, 0, &high);
    if (high || (op != OP_MOV && (size < 4 || src >= size) && !(sx && src == 4 && size == 4)))
        return false;
    if (sx && src == size)
        sx = false;
    if (interp_is_memory(i, 1)) {
        enum uop_load what = op == OP_MOV ? (size == 1 ? LOAD_M1 : size == 2 ? LOAD_M2 : size == 4 ? LOAD_4 : LOAD_8)
                             : !sx ? (src == 1 ? LOAD_Z1 : src == 2 ? LOAD_Z2 : LOAD_4)
                             : src == 4 ? LOAD_S4_8 : src == 1 ? (size == 4 ? LOAD_S1_4 : LOAD_S1_8) : size == 4 ? LOAD_S2_4 : LOAD_S2_8;
        trace_emit_address(b, i, src, ACCESS_READ, handler_load_has_index(what), false, &a);
        u = trace_emit_mem(b, handler_load(what, a.index, trace_kind(ra), a.kb, a.kx));
        u->a = UOP_GPR(ra);
        trace_set_address(u, &a);
        return true;
    }
    if (trace_is_immediate(i->row->opnd[1])) {
        u = trace_emit(b, handler_mov_ri(size, trace_kind(ra)));
        u->a = UOP_GPR(ra);
        u->v.imm = size == 4 ? (uint32_t)i->imm : i->imm;
        return true;
    }
    rb = interp_reg(i, 1, &high_b);
    if (high_b) {
        if (op != OP_MOVZX)
            return false;
        src = 0;
    }
    u = trace_emit_ab(b, handler_mov_rr(size, src, sx, trace_kind(ra), trace_kind(rb)), UOP_GPR(ra), UOP_GPR(rb));
    if (size == 8 && src == 8 && trace_kind(ra) == TRACE_KIND_R && trace_kind(rb) == TRACE_KIND_R) {
        if (b->pair && b->pair + 1 == u) {
            trace_set_handler(b, b->pair, handler_mov_pair(), 2);
            b->pair = NULL;
        } else {
            b->pair = u;
        }
    }
    return true;
}

static bool trace_emit_unary(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, size = interp_size(i, 0), ra, log = size == 8 ? 3 : size >> 1;
    bool flags = t->live != 0 && op != OP_NOT, high;
    struct trace_address a;
    struct uop *u;
    if (interp_is_memory(i, 0)) {
        if (!handler_unary_m(op, size, 0))
            return false;
        trace_emit_address(b, i, size, ACCESS_WRITE, false, false, &a);
        if (!flags && (op == OP_INC || op == OP_DEC)) {
            u = trace_emit_mem(b, handler_alu_mi(op == OP_INC ? OP_ADD : OP_SUB, size, false, a.kb));
            u->v.imm = 1;
        } else {
            u = trace_emit_mem(b, handler_unary_m(op, size, a.kb));
        }
        trace_set_address(u, &a);
    } else {
        ra = interp_reg(i, 0, &high);
        if (high || !handler_unary(op, size, flags, (t->live & FLAG_CF) != 0, 0))
            return false;
        trace_emit(b, handler_unary(op, size, flags, (t->live & FLAG_CF) != 0, trace_kind(ra)))->a = UOP_GPR(ra);
    }
    if (flags)
        b->kind = (op == OP_INC ? FLAGK_INC : op == OP_DEC ? FLAGK_DEC : FLAGK_SUB) | log;
    return true;
}

static bool trace_emit_shift(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, size = interp_size(i, 0), ra, n;
    bool flags = t->live != 0, high;
    uop_fn fn;
    struct uop *u;
    if (interp_is_memory(i, 0))
        return false;
    ra = interp_reg(i, 0, &high);
    if (high)
        return false;
    if (i->row->opnd[1] == OPND_CL) {
        fn = handler_shift_cl(op, size, flags, trace_kind(ra));
        if (!fn)
            return false;
        trace_emit(b, fn)->a = UOP_GPR(ra);
        if (flags)
            b->kind = FLAGK_END; /* a count of 0 leaves the old ones */
        return true;
    }
    n = (unsigned)(i->row->opnd[1] == OPND_1 ? 1 : i->imm) & (size == 8 ? 63u : 31u);
    if (n == 0) {
        if (size == 4)
            trace_emit_ab(b, handler_mov_rr(4, 4, false, trace_kind(ra), trace_kind(ra)), UOP_GPR(ra), UOP_GPR(ra));
        return true;
    }
    if (n >= 8 * size)
        return false;
    if (op == OP_ROR && !flags) {
        op = OP_ROL;
        n = 8 * size - n;
    }
    fn = handler_shift_ri(op, size, flags, trace_kind(ra));
    if (!fn)
        return false;
    u = trace_emit(b, fn);
    u->a = UOP_GPR(ra);
    u->disp = (int32_t)n;
    if (flags)
        b->kind = op == OP_ROL || op == OP_ROR ? FLAGK_END : FLAGK_RESULT | (size == 8 ? 3u : size >> 1);
    return true;
}

/* Register operand n's kind and cell, or memory loaded into TEMP. false: AH..BH. */
static bool trace_source(struct trace_builder *b, const struct insn *i, unsigned n, unsigned *kind, uint16_t *cell)
{
    bool high;
    unsigned r;
    if (interp_is_memory(i, n)) {
        trace_emit_load_cell(b, i, interp_size(i, n), TRACE_CELL_TEMP);
        *kind = TRACE_KIND_R;
        *cell = TRACE_CELL_TEMP;
        return true;
    }
    r = interp_reg(i, n, &high);
    *kind = trace_kind(r);
    *cell = UOP_GPR(r);
    return !high;
}

/* Operations between cells of the register file: a op= b, with slots spilled and reloaded around. */
static void trace_emit_cells(struct trace_builder *b, const struct insn *i, uop_fn fn, bool reads_a, bool writes_a, unsigned source)
{
    bool high;
    unsigned ra = interp_reg(i, 0, &high), kb, rb;
    uint16_t cell = 0;
    struct uop *u;
    if (source) {
        if (interp_is_memory(i, source)) {
            trace_source(b, i, source, &kb, &cell);
        } else {
            rb = interp_reg(i, source, &high);
            trace_spill(b, rb);
            cell = UOP_GPR(rb);
        }
    }
    if (reads_a)
        trace_spill(b, ra);
    u = trace_emit_ab(b, fn, UOP_GPR(ra), cell);
    u->disp = (int32_t)i->imm;
    u->misc = source == 0;
    if (writes_a)
        trace_reload(b, ra);
}

static bool trace_emit_multiply(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, size = interp_size(i, 0), kb, ra;
    uint16_t cell;
    struct uop *u;
    bool high;
    if (size < 4 || ((op == OP_MUL || op == OP_IMUL1) && t->live) || (op == OP_IDIV && size != 4))
        return false;
    if (op == OP_IMUL && t->live) {
        bool three = i->row->opnd[2] != OPND_NONE;
        trace_emit_cells(b, i, handler_imul_flags(size, three), !three, true, 1);
        b->kind = FLAGK_RESULT | (size == 8 ? 3u : 2u);
        return true;
    }
    if (op == OP_IMUL) {
        bool three = i->row->opnd[2] != OPND_NONE;
        ra = interp_reg(i, 0, &high);
        trace_source(b, i, 1, &kb, &cell);
        u = trace_emit_ab(b, handler_imul(size, three, trace_kind(ra), kb), UOP_GPR(ra), cell);
        u->disp = (int32_t)i->imm;
        return true;
    }
    trace_source(b, i, 0, &kb, &cell);
    trace_emit(b, handler_mul(op, size, kb))->a = cell;
    return true;
}

static bool trace_emit_bits(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, size = interp_size(i, 0);
    uop_fn fn = handler_bits(op, size);
    if (!fn)
        return false;
    if (op == OP_BT || op == OP_BTS || op == OP_BTR || op == OP_BTC) {
        bool immediate = i->row->opnd[1] == OPND_Ib, keep = (t->live & (FLAGS_ARITH & ~FLAG_CF)) && (b->kind & ~3u) != FLAGK_LOGIC; /* LOGIC: the result stays */
        if (i->memory && !immediate && i->addrsize != 8) /* the sum of address and index is cut */
            return false;
        if (keep)
            trace_emit(b, uop_flags_keep);
        if (!i->memory) {
            trace_emit_cells(b, i, fn, true, op != OP_BT, immediate ? 0 : 1);
        } else if (op == OP_BT && immediate) {
            struct uop *u;
            trace_emit_load_cell(b, i, size, TRACE_CELL_TEMP);
            u = trace_emit_ab(b, fn, TRACE_CELL_TEMP, 0);
            u->disp = (int32_t)i->imm;
            u->misc = 1;
        } else {
            struct trace_address a;
            struct uop *u;
            uint16_t index = TRACE_CELL_TEMP2;
            if (immediate) {
                u = trace_emit(b, handler_mov_ri(8, TRACE_KIND_R));
                u->a = index;
                u->v.imm = i->imm & (8 * size - 1);
            } else {
                bool high;
                unsigned r = interp_reg(i, 1, &high);
                trace_spill(b, r);
                index = UOP_GPR(r);
            }
            trace_emit_address(b, i, size, op == OP_BT ? ACCESS_READ : ACCESS_WRITE, false, true, &a);
            u = trace_emit_mem(b, handler_bits_m(op, size));
            u->a = index;
            trace_set_address(u, &a);
        }
        if (keep)
            trace_emit(b, uop_flags_carry);
        b->kind = keep ? FLAGK_END : FLAGK_RESULT;
        return true;
    }
    trace_emit_cells(b, i, fn, op != OP_POPCNT, true, 1);
    b->kind = op == OP_POPCNT ? FLAGK_END : FLAGK_LOGIC | (size == 8 ? 3u : 2u);
    return true;
}

static bool trace_emit_condition(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned cc = i->opcode & 15u, ra, size = interp_size(i, 0);
    bool high;
    struct uop *u;
    if (i->row->op == OP_SETCC) {
        u = trace_emit(b, handler_cond(b->kind, cc));
        u->misc = (uint8_t)cc;
        if (i->memory) { /* the address may need TEMP */
            struct trace_address a;
            trace_emit_ab(b, handler_mov_rr(8, 8, false, TRACE_KIND_R, TRACE_KIND_R), TRACE_CELL_TEMP2, TRACE_CELL_TEMP);
            trace_emit_address(b, i, 1, ACCESS_WRITE, true, false, &a);
            u = trace_emit_mem(b, handler_store(1, a.index, TRACE_KIND_R, a.kb, a.kx));
            u->a = TRACE_CELL_TEMP2;
            trace_set_address(u, &a);
            return true;
        }
        ra = interp_reg(i, 0, &high);
        if (high) {
            b->tc->used--; /* takes the condition back */
            return false;
        }
        trace_emit(b, handler_setcc(trace_kind(ra)))->a = UOP_GPR(ra);
        return true;
    }
    if (size < 4)
        return false;
    ra = interp_reg(i, 0, &high);
    if (i->memory) {
        trace_emit_load_cell(b, i, size, TRACE_CELL_TEMP2);
        u = trace_emit(b, handler_cond(b->kind, cc));
        u->misc = (uint8_t)cc;
        trace_emit_ab(b, handler_cmov(size, trace_kind(ra), TRACE_KIND_R), UOP_GPR(ra), TRACE_CELL_TEMP2);
    } else {
        unsigned rb = interp_reg(i, 1, &high);
        u = trace_emit(b, handler_cond(b->kind, cc));
        u->misc = (uint8_t)cc;
        trace_emit_ab(b, handler_cmov(size, trace_kind(ra), trace_kind(rb)), UOP_GPR(ra), UOP_GPR(rb));
    }
    return true;
}

/* u, a push or pop of a cell, joins those right before it. */
static void trace_extend_run(struct trace_builder *b, struct uop *u, unsigned kind)
{
    struct uop *first = b->run;
    if (first && b->run_kind == kind && b->run_end == u && b->run_count < STACK_RUN_MAX) {
        switch (b->run_count++) {
        case 1: first->b = u->a; break;
        case 2: first->x = u->a; break;
        case 3: first->disp = u->a; break;
        case 4: first->disp |= (int32_t)u->a << 16; break; /* cells lie below 4096 */
        default: UOP_PAGE(first)->cell = u->a; break;
        }
        UOP_PAGE(first)->run = (uint8_t)kind;
        trace_set_handler(b, first, handler_stack_run(kind, b->run_count), 2 * b->run_count);
        UOP_PAGE(first)->v.self = (uop_then)handler_stack_run(kind, b->run_count);
    } else {
        b->run = u;
        b->run_kind = kind;
        b->run_count = 1;
    }
    b->run_end = u + 2;
}

static bool trace_emit_stack(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    bool long_mode = (b->key & KEY_CS_SIZE) == KEY_CS64, flat32 = (b->key & (KEY_CS_SIZE | KEY_SS32 | KEY_FLAT_SS)) == (KEY_CS32 | KEY_SS32 | KEY_FLAT_SS), high;
    unsigned size = i->opsize, kind, op = i->row->op, r;
    uint16_t cell;
    struct uop *u;
    if (!(long_mode ? size == 8 : flat32 && size == 4))
        return false;
    if (op == OP_PUSH) {
        if (trace_is_immediate(i->row->opnd[0])) {
            u = trace_emit_mem(b, handler_push_imm(size));
            u->v.imm = i->imm;
        } else {
            if (i->memory) {
                trace_emit_load_cell(b, i, size, TRACE_CELL_TEMP);
                kind = TRACE_KIND_R;
                cell = TRACE_CELL_TEMP;
            } else {
                r = interp_reg(i, 0, &high);
                kind = trace_kind(r);
                cell = UOP_GPR(r);
            }
            u = trace_emit_mem(b, handler_push(size, kind));
            u->a = cell;
            if (size == 8 && kind == TRACE_KIND_R && !i->memory && cell != UOP_GPR(GPR_RSP))
                trace_extend_run(b, u, STACK_RUN_PUSH);
        }
    } else if (op == OP_POP) {
        if (i->memory)
            return false;
        r = interp_reg(i, 0, &high);
        u = trace_emit_mem(b, handler_pop(size, trace_kind(r)));
        u->a = UOP_GPR(r);
        if (size == 8 && trace_kind(r) == TRACE_KIND_R && r != GPR_RSP)
            trace_extend_run(b, u, STACK_RUN_POP);
    } else {
        if (!long_mode)
            return false;
        u = trace_emit_mem(b, handler_leave());
    }
    UOP_PAGE(u)->seg = SEG_SS;
    return true;
}

static bool trace_emit_flow(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, kind;
    uint16_t cell;
    bool high;
    struct uop *u;
    if ((b->key & KEY_CS_SIZE) != KEY_CS64)
        return false;
    if (op == OP_CALL) {
        u = trace_emit_mem(b, handler_call());
        UOP_PAGE(u)->v.link = NULL;
        u->disp = t->next;
        u->scale = t->next < TRACE_PAGE;
        UOP_PAGE(u)->seg = SEG_SS;
        trace_add_exit(b, u, t->target);
        return true;
    }
    if (op == OP_RET) {
        u = trace_emit_mem(b, handler_ret());
        u->misc = 1;
        UOP_PAGE(u)->seg = SEG_SS;
        u->v.imm = i->row->opnd[0] == OPND_Iw ? i->imm : 0;
        return true;
    }
    if (i->memory) {
        trace_emit_load_cell(b, i, 8, TRACE_CELL_TEMP2);
        kind = TRACE_KIND_R;
        cell = TRACE_CELL_TEMP2;
    } else {
        unsigned r = interp_reg(i, 0, &high);
        kind = trace_kind(r);
        cell = UOP_GPR(r);
    }
    if (op == OP_JMP_RM) {
        u = trace_emit(b, handler_jmp_reg(kind));
    } else {
        u = trace_emit_mem(b, handler_call_reg(kind));
        u->v.self = (uop_then)handler_call_reg(kind);
        UOP_PAGE(u)->v.link = NULL;
        u->disp = t->next;
        u->scale = t->next < TRACE_PAGE;
        UOP_PAGE(u)->seg = SEG_SS;
    }
    u->a = cell;
    return true;
}

/* An integer instruction by fast handlers; false: none fits, nothing was emitted. */
static bool trace_emit_int(struct trace_builder *b, const struct trace_insn *t)
{
    const struct insn *i = &t->insn;
    unsigned op = i->row->op, ra, size = interp_size(i, 0);
    struct trace_address a;
    struct uop *u;
    bool high, high_b;
    uint16_t cell;
    uop_fn fn;
    if (b->tc->plain && op != OP_JCC && op != OP_JMP)
        return false;
    if ((b->key & KEY_AC) && trace_may_fault(i))
        return false;
    switch (op) {
    case OP_ADD: case OP_OR: case OP_AND: case OP_SUB: case OP_XOR: case OP_CMP: case OP_TEST: return trace_emit_alu(b, t);
    case OP_ADC: case OP_SBB: {
        bool immediate = trace_is_immediate(i->row->opnd[1]);
        fn = handler_carry(op, size, immediate);
        if (!fn || interp_is_memory(i, 0))
            return false;
        trace_emit_cells(b, i, fn, true, true, immediate ? 0 : 1);
        b->kind = FLAGK_RESULT | (size == 8 ? 3u : 2u);
        return true;
    }
    case OP_SHLD: case OP_SHRD:
        fn = handler_shift_double(op, size);
        if (!fn || i->memory || i->row->opnd[2] == OPND_CL || (i->imm & (size == 8 ? 63 : 31)) == 0)
            return false;
        trace_emit_cells(b, i, fn, true, true, 1);
        b->kind = FLAGK_RESULT | (size == 8 ? 3u : 2u);
        return true;
    case OP_INC: case OP_DEC: case OP_NEG: case OP_NOT: return trace_emit_unary(b, t);
    case OP_ROL: case OP_ROR: case OP_SHL: case OP_SHR: case OP_SAR: return trace_emit_shift(b, t);
    case OP_MOV: case OP_MOVZX: case OP_MOVSX: return trace_emit_mov(b, t);
    case OP_LEA:
        if (size < 4 || i->addrsize < 4 || !trace_plain_address(b, i, &a))
            return false;
        u = trace_emit(b, handler_lea(EMU_MIN(size, i->addrsize), a.index, trace_kind(i->reg), a.kb, a.kx));
        u->a = UOP_GPR(i->reg);
        u->b = a.b;
        u->x = a.x;
        u->scale = a.scale;
        u->disp = a.disp;
        return true;
    case OP_XCHG:
        if (i->opcode == 0x90 && i->rm == GPR_RAX)
            return true;
        if (interp_is_memory(i, 0)) {
            ra = interp_reg(i, 1, &high);
            if (high || !handler_xchg_m(size, 0, 0))
                return false;
            trace_emit_address(b, i, size, ACCESS_WRITE, false, false, &a);
            u = trace_emit_mem(b, handler_xchg_m(size, trace_kind(ra), a.kb));
            u->a = UOP_GPR(ra);
            trace_set_address(u, &a);
            return true;
        }
        ra = interp_reg(i, 0, &high);
        fn = handler_xchg_rr(size, trace_kind(ra), trace_kind(interp_reg(i, 1, &high_b)));
        if (!fn)
            return false;
        trace_emit_ab(b, fn, UOP_GPR(ra), UOP_GPR(interp_reg(i, 1, &high_b)));
        return true;
    case OP_XADD: case OP_CMPXCHG:
        fn = handler_exchange_m(op, size);
        if (!fn || !interp_is_memory(i, 0))
            return false;
        ra = interp_reg(i, 1, &high);
        if (op == OP_CMPXCHG)
            trace_spill(b, ra);
        cell = trace_copy_slot(b, op == OP_XADD ? ra : GPR_RAX);
        trace_emit_address(b, i, size, ACCESS_WRITE, false, true, &a);
        u = trace_emit_mem(b, fn);
        trace_set_address(u, &a);
        u->a = op == OP_XADD ? cell : UOP_GPR(ra);
        u->x = cell;
        trace_put_slot(b, op == OP_XADD ? ra : GPR_RAX, op == OP_XADD ? size : 8);
        b->kind = (op == OP_XADD ? FLAGK_ADD : FLAGK_SUB) | (size == 8 ? 3u : 2u);
        return true;
    case OP_BSWAP:
        fn = handler_unary(OP_BSWAP, size, false, false, trace_kind(i->rm));
        if (!fn)
            return false;
        trace_emit(b, fn)->a = UOP_GPR(i->rm);
        return true;
    case OP_MUL: case OP_IMUL1: case OP_IMUL: case OP_DIV: case OP_IDIV: return trace_emit_multiply(b, t);
    case OP_CBW: case OP_CWD:
        fn = handler_extend_rax(op == OP_CWD, i->opsize);
        if (!fn)
            return false;
        trace_emit(b, fn);
        return true;
    case OP_BT: case OP_BTS: case OP_BTR: case OP_BTC: case OP_BSF: case OP_BSR: case OP_POPCNT: return trace_emit_bits(b, t);
    case OP_SETCC: case OP_CMOV: return trace_emit_condition(b, t);
    case OP_PUSH: case OP_POP: case OP_LEAVE: return trace_emit_stack(b, t);
    case OP_CALL: case OP_CALL_RM: case OP_RET: case OP_JMP_RM: return trace_emit_flow(b, t);
    case OP_JMP: return trace_plain_branch(b, i); /* the path goes on, or ends in an exit */
    case OP_JCC:
        if (!trace_plain_branch(b, i))
            return false;
        trace_emit_jcc(b, t);
        return true;
    case OP_NOP: return true;
    default: return false;
    }
}

/* ---- vector instructions: conventions at vec_fn in cpu.h ---- */
static unsigned trace_vec_size(const struct insn *i, unsigned kind)
{
    switch (kind) {
    case OPND_Wx: case OPND_Mdq: return 16;
    case OPND_Wq: case OPND_Qq: case OPND_Mq: case OPND_Eq: return 8;
    case OPND_Wd: case OPND_Qd: case OPND_Md: case OPND_Ed: case OPND_Gd: case OPND_Rd: return 4;
    case OPND_Ww: case OPND_Mw: case OPND_Ew: case OPND_Gw: return 2;
    case OPND_Wb: case OPND_Mb: case OPND_Eb: case OPND_Gb: return 1;
    case OPND_Ey: case OPND_Gy: case OPND_Ry: case OPND_My: return i->opsize == 8 ? 8 : 4;
    default: return i->opsize;
    }
}
enum trace_vec_class { TRACE_VEC_XMM, TRACE_VEC_GPR, TRACE_VEC_MMX, TRACE_VEC_MEM };
/* Class of an operand; *n: register number. */
static enum trace_vec_class trace_vec_operand(const struct insn *i, unsigned kind, unsigned *n)
{
    switch (kind) {
    case OPND_Vx: *n = i->reg; return TRACE_VEC_XMM;
    case OPND_Hx: *n = i->vvvv; return TRACE_VEC_XMM;
    case OPND_Ux: *n = i->rm; return TRACE_VEC_XMM;
    case OPND_Wx: case OPND_Wq: case OPND_Wd: case OPND_Ww: case OPND_Wb: *n = i->rm; return i->memory ? TRACE_VEC_MEM : TRACE_VEC_XMM;
    case OPND_Pq: *n = i->reg & 7; return TRACE_VEC_MMX;
    case OPND_Nq: *n = i->rm & 7; return TRACE_VEC_MMX;
    case OPND_Qq: case OPND_Qd: *n = i->rm & 7; return i->memory ? TRACE_VEC_MEM : TRACE_VEC_MMX;
    case OPND_Gb: case OPND_Gw: case OPND_Gv: case OPND_Gd: case OPND_Gy: case OPND_Gq: *n = i->reg; return TRACE_VEC_GPR;
    case OPND_Rd: case OPND_Ry: case OPND_Rv: *n = i->rm; return TRACE_VEC_GPR;
    default: *n = i->rm; return i->memory ? TRACE_VEC_MEM : TRACE_VEC_GPR;
    }
}
#define TRACE_XMM(n) ((uint16_t)(offsetof(struct cpu, xmm) + sizeof(union vec) * (n)))
#define TRACE_VTMP(n) ((uint16_t)(offsetof(struct cpu, vtmp) + sizeof(union vec) * (n)))
#define TRACE_MMX(n) ((uint16_t)(offsetof(struct cpu, x87) + sizeof(struct x87_reg) * (n)))

UOP_FN(uop_mmx_put) /* vtmp[1] into an MMX register, whose exponent becomes all ones */
{
    struct x87_reg *r = (struct x87_reg *)(void *)((char *)c + u->a);
    r->mant = c->vtmp[1].q[0];
    r->exp = 0xFFFF;
    UOP_NEXT;
}

static void trace_vec_from_reg(struct trace_builder *b, enum trace_vec_class cls, unsigned n, unsigned size, unsigned tmp)
{
    if (cls == TRACE_VEC_MMX)
        trace_emit_ab(b, handler_mov_rr(8, 8, false, TRACE_KIND_R, TRACE_KIND_R), TRACE_VTMP(tmp), (uint16_t)(TRACE_MMX(n) + offsetof(struct x87_reg, mant)));
    else
        trace_emit_ab(b, handler_mov_rr(size == 4 ? 4 : 8, size, false, TRACE_KIND_R, trace_kind(n)), TRACE_VTMP(tmp), UOP_GPR(n));
    trace_emit(b, uop_clear_cell)->a = (uint16_t)(TRACE_VTMP(tmp) + 8);
}

static void trace_emit_vec(struct trace_builder *b, const struct insn *i)
{
    const struct insn_row *r = i->row;
    const struct vec_handlers *h = b->tc->plain ? NULL : r->handler;
    unsigned last = 0, k, nd, nb, size, mask;
    enum trace_vec_class cd, cb;
    uint16_t d, s;
    struct trace_address a;
    struct uop *u;
    for (k = 0; k < 4; k++)
        if (r->opnd[k] && r->opnd[k] != OPND_Ib && r->opnd[k] != OPND_XMM0 && r->opnd[k] != OPND_Lx)
            last = k;
    cd = trace_vec_operand(i, r->opnd[0], &nd);
    cb = trace_vec_operand(i, r->opnd[last], &nb);
    size = trace_vec_size(i, r->opnd[last]);
    mask = size == 16 && !(r->attr & ROW_UNALIGNED) ? 15 : 0;
    if (r->attr & ROW_MMX)
        trace_emit(b, uop_mmx_begin);
    d = cd == TRACE_VEC_XMM ? TRACE_XMM(nd) : TRACE_VTMP(1);
    if (cd == TRACE_VEC_MMX && last != 0)
        trace_vec_from_reg(b, cd, nd, 8, 1);
    if (cb == TRACE_VEC_MEM && last != 0) {
        trace_emit_address(b, i, size, ACCESS_READ, false, true, &a);
        if (h && h->bytes == size) {
            u = trace_emit_mem(b, h->rm);
            trace_set_address(u, &a);
            u->a = u->x = d; /* no index: x is the first operand */
            u->scale = (uint8_t)mask;
            u->misc = (uint8_t)i->imm;
            goto result;
        }
        u = trace_emit_mem(b, handler_vec_load(size));
        trace_set_address(u, &a);
        u->scale = (uint8_t)mask;
        s = TRACE_VTMP(0);
    } else if (cb == TRACE_VEC_XMM) {
        s = TRACE_XMM(nb);
    } else if (cb == TRACE_VEC_MEM) {
        s = TRACE_VTMP(1);
    } else {
        trace_vec_from_reg(b, cb, nb, size, 0);
        s = TRACE_VTMP(0);
    }
    if (r->op == VEC_OP_STORE && cd == TRACE_VEC_MEM && cb != TRACE_VEC_MEM) {
        d = s;
    } else {
        u = trace_emit_ab(b, h ? h->rr : uop_vec_rr, d, s);
        u->x = d;
        u->misc = (uint8_t)i->imm;
        u->v.ptr = i;
    }
result:
    if (cd == TRACE_VEC_MEM) {
        size = trace_vec_size(i, r->opnd[0]);
        trace_emit_address(b, i, size, ACCESS_WRITE, false, true, &a);
        u = trace_emit_mem(b, handler_vec_store(size));
        trace_set_address(u, &a);
        u->a = d;
        u->scale = size == 16 && !(r->attr & ROW_UNALIGNED) ? 15 : 0;
    } else if (cd == TRACE_VEC_GPR) {
        size = trace_vec_size(i, r->opnd[0]);
        trace_emit_ab(b, handler_mov_rr(size, size, false, trace_kind(nd), TRACE_KIND_R), UOP_GPR(nd), TRACE_VTMP(1));
    } else if (cd == TRACE_VEC_MMX) {
        trace_emit(b, uop_mmx_put)->a = TRACE_MMX(nd);
    }
    b->kind = FLAGK_END;
}

/* One instruction (or two: the return value). */
static unsigned trace_emit_insn(struct trace_builder *b, unsigned k)
{
    const struct trace_insn *t = &b->tc->insns[k];
    const struct insn *i = &t->insn;
    const struct insn_row *r = i->row;
    b->at = k;
    b->pos = t->pos;
    if (t->error) {
        trace_emit_raise(b, t->error, t->error == EXC_GP ? 0 : -1);
        return 1;
    }
    if ((r->attr & ROW_PRIV) && !(b->key & KEY_KERNEL)) {
        trace_emit_raise(b, EXC_GP, 0);
        return 1;
    }
    if (((r->attr & ROW_SSE) && (b->key & KEY_NO_SSE)) || ((r->attr & (ROW_X87 | ROW_MMX)) && (b->key & KEY_NO_X87))) {
        trace_emit(b, uop_no_unit)->misc = (r->attr & ROW_SSE) && (b->key & KEY_NO_SSE) ? 1 : r->attr & ROW_MMX ? 2 : 0;
        return 1;
    }
    if (r->how == HOW_INT) {
        if (!b->tc->plain && k + 1 < b->count && !(b->key & KEY_AC) && !t->error && !t[1].error && t[1].insn.row->how == HOW_INT && t[1].insn.row->op == OP_JCC &&
            trace_plain_branch(b, &t[1].insn) && trace_emit_fused(b, t, t + 1))
            return 2;
        if (trace_emit_int(b, t))
            return 1;
        trace_emit_call(b, i);
        if (t->insn.row->op == OP_JCC)
            trace_set_handler(b, b->tc->arena + b->tc->used - 1, uop_call_end, 1);
        return 1;
    }
    if (r->how == HOW_VEC)
        trace_emit_vec(b, i);
    else
        trace_emit_call(b, i);
    return 1;
}

/* Plain-C instructions point to the builder's copy while the code is emitted; here they get copies of their own behind it. */
static void trace_attach_insns(struct trace_builder *b, const struct uop *end)
{
    struct insn *copies[TRACE_MAX_INSNS];
    struct uop *u;
    memset(copies, 0, sizeof copies);
    for (u = b->first; u < end; u++) {
        struct trace_insn *t;
        uop_fn fn = b->handlers[u - b->first];
        if (fn != uop_call && fn != uop_call_end && fn != uop_string_element && fn != uop_string_repeat && fn != uop_agen && fn != uop_vec_rr &&
            fn != uop_sti)
            continue;
        t = &b->tc->insns[u->insn];
        if (!copies[u->insn])
            copies[u->insn] = trace_keep_insn(b, &t->insn);
        u->v.ptr = copies[u->insn];
    }
}

/* Enters each uop's handler into the one that goes on to it. */
static void trace_chain(struct trace_builder *b, const struct uop *end)
{
    size_t n = (size_t)(end - b->first), i;
    b->trace->head->next = (uop_then)b->handlers[0];
    for (i = 0; i < n; i++)
        if (b->handlers[i])
            b->first[i].next = i + b->steps[i] < n ? (uop_then)b->handlers[i + b->steps[i]] : NULL;
}

static void trace_emit_exits(struct trace_builder *b)
{
    unsigned k;
    uint64_t page = b->trace->offset & ~(uint64_t)(TRACE_PAGE - 1);
    for (k = 0; k < b->exit_count; k++) {
        struct trace_exit *x = &b->exits[k];
        struct uop *stub;
        bool near_page = b->trace->block && trace_near(b, x->target), last;
        uop_fn fn = b->handlers[x->u - b->first];
        bool other_key = fn == uop_stac || fn == uop_clac;
        if (near_page && x->target == (int32_t)b->start && b->tier != TRACE_STEP && !other_key) {
            x->u->v.link = b->trace->head;
            continue;
        }
        last = !near_page && (fn == uop_exit || fn == handler_call()); /* right behind it: it will be read each time */
        stub = last ? trace_alloc(b->tc, 2 * sizeof *stub) : trace_alloc_cold(b->tc, 2 * sizeof *stub); /* two units, near or far: see trace_link_stub() */
        stub->next = (uop_then)uop_exit_resolve;
        stub->pos = b->pos;
        stub->count = 1;
        stub->disp = x->target;
        stub->misc = !near_page;
        x->u->v.link = stub;
        if (near_page) {
            struct trace *t = other_key ? NULL : trace_find(b->c->emu, b->trace->block, page + (unsigned)x->target, b->key);
            stub->v.link = x->u;
            if (t && t->tier != TRACE_STEP && !t->straddles && b->tier != TRACE_STEP) {
                x->u->v.link = t->head;
                trace_add_link(b->tc, t, x->u, stub);
            }
        }
    }
}

/* -d in_asm */
static void trace_log(const struct trace_builder *b)
{
    struct cpu *c = b->c;
    unsigned k, i;
    emu_log(c->emu, LOG_IN_ASM, "----------------");
    emu_log(c->emu, LOG_IN_ASM, "IN:");
    for (k = 0; k < b->count; k++) {
        const struct trace_insn *t = &b->tc->insns[k];
        uint64_t va = (c->code_size == 8 ? 0 : c->seg_base[SEG_CS]) + c->code_base + t->pos;
        unsigned n = t->error ? 1 : t->insn.length;
        uint8_t bytes[16];
        char raw[3 * sizeof bytes + 1], text[120] = "(bad)";
        if (c->code_size != 8)
            va &= 0xFFFFFFFFu;
        raw[0] = 0;
        if (cpu_debug_read(c, va, bytes, n))
            for (i = 0; i < n; i++)
                snprintf(raw + 3 * i, sizeof raw - 3 * i, "%02x ", bytes[i]);
        if (!t->error)
            cpu_disassemble(&t->insn, va, text, sizeof text);
        emu_log(c->emu, LOG_IN_ASM, "0x%08" PRIx64 ":  %-24s %s", va, raw, text);
    }
}

EMU_PRIV struct trace *trace_build(struct cpu *c, struct ram_block *block, uint64_t page_offset, unsigned offset, uint32_t key, unsigned tier, const uint8_t *copied,
                                   unsigned copied_size)
{
    struct trace_cache *tc = c->emu->traces;
    struct trace_builder *b = &tc->builder;
    struct trace *t;
    struct uop *u;
    unsigned k;
    if (trace_full(tc, TRACE_RESERVE_UNITS))
        trace_flush(c->emu);
    b->c = c;
    b->tc = tc;
    b->key = key;
    b->tier = tier;
    b->start = offset;
    b->count = 0;
    b->lines = 0;
    b->ended = false;
    b->kind = FLAGK_END;
    b->exit_count = 0;
    b->run = b->pair = NULL;
    b->bytes = block ? block->bytes + page_offset : copied;
    b->size = block ? TRACE_PAGE : offset + copied_size;
    t = trace_alloc_cold(tc, sizeof *t);
    b->trace = t;
    t->block = block;
    t->offset = page_offset + offset;
    t->key = key;
    t->tier = (uint8_t)tier;
    trace_decode_path(b);
    if (b->count == 0) { /* the first instruction straddles the page */
        uint8_t bytes[32];
        struct phys_page second;
        uint64_t gpa, va = c->code_base + (c->code_size == 8 ? 0 : c->seg_base[SEG_CS]) + TRACE_PAGE;
        unsigned have = TRACE_PAGE - offset;
        if (!block || copied) { /* copied bytes cover both pages already */
            tc->insns[0].error = EXC_GP;
            tc->insns[0].pos = (uint16_t)offset;
            b->count = 1;
            b->ended = true;
        } else {
            if (c->code_size != 8)
                va &= 0xFFFFFFFFu;
            if (cpu_code_page(c, va, &second, &gpa))
                return NULL;
            memcpy(bytes, b->bytes + offset, have);
            mem_read(c->emu, gpa & ~(uint64_t)(TRACE_PAGE - 1), bytes + have, 16);
            b->bytes = NULL;
            t->straddles = true;
            t->block2 = second.block;
            t->offset2 = second.block_offset;
            tc->insns[0].error = (uint8_t)cpu_decode(c, key, bytes, have + 16, &tc->insns[0].insn);
            tc->insns[0].pos = (uint16_t)offset;
            tc->insns[0].inverted = false;
            tc->insns[0].next = (int32_t)(offset + tc->insns[0].insn.length);
            tc->insns[0].target = (int32_t)((uint32_t)tc->insns[0].next + (uint32_t)tc->insns[0].insn.imm);
            b->count = 1;
            b->final = tc->insns[0].next;
            b->lines = trace_lines(offset, TRACE_PAGE);
            if (tc->insns[0].error) {
                b->ended = true;
            } else {
                const struct insn_row *r = tc->insns[0].insn.row;
                if (r->how == HOW_INT && r->op == OP_JMP && trace_plain_branch(b, &tc->insns[0].insn))
                    b->final = tc->insns[0].target;
                else if ((r->attr & ROW_ENDS) || (r->how == HOW_INT && r->op == OP_JCC && !trace_plain_branch(b, &tc->insns[0].insn)))
                    b->ended = true;
            }
            if (b->tier == TRACE_TIER1)
                t->tier = (uint8_t)(b->tier = TRACE_TIER2); /* nothing more to gain */
        }
    }
    if (EMU_LOG_ENABLED(c->emu, LOG_IN_ASM) && tier != TRACE_TIER2) /* that one has been shown as tier 1 */
        trace_log(b);
    trace_find_live(b);
    t->insns = (uint16_t)b->count;
    t->row = tc->insns[b->count - 1].error ? NULL : tc->insns[b->count - 1].insn.row;
    t->bytes = (uint16_t)(tc->insns[b->count - 1].error ? 1 : tc->insns[b->count - 1].insn.length);
    t->head = trace_alloc(tc, sizeof *t->head);
    t->head->pos = (uint16_t)offset;
    b->first = t->head + 1;
    b->at = 0;
    b->pos = (uint16_t)offset;
    if (b->tier == TRACE_TIER1) {
        u = trace_emit(b, uop_count);
        u->disp = TRACE_HOT;
        u->v.ptr = t;
        u->a = (uint16_t)b->count;
    }
    for (k = 0; k < b->count;)
        k += trace_emit_insn(b, k);
    if (!b->ended) {
        b->at = b->count;
        b->pos = (uint16_t)b->final;
        u = trace_emit(b, uop_exit);
        u->count = (uint8_t)b->count;
        trace_add_exit(b, u, b->final);
    }
    u = tc->arena + tc->used;
    trace_attach_insns(b, u);
    trace_chain(b, u);
    b->at = 0;
    trace_emit_exits(b);
    if (block && !copied) {
        struct trace **chain = &tc->hash[trace_hash_of(block, t->offset, key)];
        t->next = *chain;
        *chain = t;
        trace_add_ref(tc, t, block, page_offset, b->lines);
        if (t->straddles && t->block2)
            trace_add_ref(tc, t, t->block2, t->offset2, 1);
    }
    tc->stats.tier2_built += tier == TRACE_TIER2;
    tc->stats.traces_built++;
    tc->stats.insns_built += b->count;
    return t;
}

EMU_PRIV void trace_promote(struct cpu *c, struct uop *head)
{
    struct trace_cache *tc = c->emu->traces;
    const struct trace *seen;
    struct trace *t, *n;
    struct trace_link *l;
    uint64_t page;
    if (!UOP_IS(head, uop_count))
        return;
    seen = head[1].v.ptr;
    t = trace_find(c->emu, seen->block, seen->offset, seen->key);
    if (!t || t->head != head)
        return;
    if (trace_full(tc, TRACE_RESERVE_UNITS)) {
        trace_flush(c->emu);
        return;
    }
    page = t->offset & ~(uint64_t)(TRACE_PAGE - 1);
    trace_unhash(tc, t);
    n = trace_build(c, t->block, page, (unsigned)(t->offset - page), t->key, TRACE_TIER2, NULL, 0);
    if (!n)
        return;
    for (l = t->incoming; l; l = l->next) {
        struct uop **link = !l->stub || l->u == l->stub ? &UOP_PAGE(l->u)->v.link : &l->u->v.link;
        if (*link == head) /* a stub may lead elsewhere by now: its old entry is still listed here */
            *link = n->head;
        if (!l->next) {
            l->next = n->incoming;
            n->incoming = t->incoming;
            break;
        }
    }
    t->incoming = NULL;
    t->dead = true; /* its list entries go with the next write or flush */
    head->next = (uop_then)uop_goto;
    head->v.link = n->head;
    if (UOP_JUMP_ENTRY(c->rip)->u == head)
        UOP_JUMP_ENTRY(c->rip)->u = n->head;
    if (UOP_JUMP_ENTRY2(c->rip)->u == head)
        UOP_JUMP_ENTRY2(c->rip)->u = n->head;
}
#undef TRACE_KIND_R
#undef TRACE_CELL_TEMP
#undef TRACE_CELL_TEMP2
#undef TRACE_XMM
#undef TRACE_VTMP
#undef TRACE_MMX
