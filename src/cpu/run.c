/* cpu/run.c - the CPU's loop: interrupts, budget, entry into traces.
 *
 * Models     Priority among events: SDM vol. 3A table 6-2. INIT and SIPI: §8.4. NMI: §6.7. Single step and breakpoints: vol. 3B §17.3.
 * Contract   machine/loop.c calls cpu_run() and cpu_step(); devices call cpu_set_interrupt() and cpu_send_sipi().
 * Theory     [boundary: events?] -> [find the trace at rip] -> traces run, linked to each other -> they leave -> [boundary].
 *            Traces count only at exits, so they get a budget that is RUN_MARGIN short of the deadline; the rest is done by step traces of
 *            one instruction (budget 0), as are interrupt shadows, TF, and everything under a debugger.
 *            Without -icount nobody needs the exact count: there a long run ends RUN_MARGIN early instead.
 * Invariants 1. icount + (budget_start - budget - budget_hold) + inflight is the number of retired instructions, at any time.
 *            2. Interrupts are taken only here, between instructions.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

enum {
    RUN_MARGIN = TRACE_MAX_INSNS + 2,
    RUN_STRETCH = 16384, /* instructions until emu_has_requests() is asked: signal handlers set one */
    RUN_EXACT_BELOW = 1024, /* budgets under this are kept exactly, -icount or not */
    RUN_PAGE = 4096,
    RUN_BREAKPOINTS = 64
};

struct run_engine {
    struct uop scratch[4];
    uint8_t copy[RUN_PAGE + 32]; /* code fetched from I/O */
    uint64_t breakpoint[RUN_BREAKPOINTS];
    unsigned breakpoints, watches;
    uint64_t stopped_at; /* linear address of the breakpoint that was reported last: not again at once */
    bool stopped;
};

/* ---- creation ---- */

EMU_PRIV int cpu_create(struct emu *e, unsigned index, struct cpu **out, struct err *err)
{
    struct cpu *c;
    struct run_engine *g;
    int r = trace_cache_create(e);
    *out = NULL;
    if (!r)
        r = cpu_decode_create(e);
    if (r)
        return err_set(err, r, "out of memory for the instruction tables");
    c = emu_alloc(e, sizeof *c);
    g = emu_alloc(e, sizeof *g);
    if (!c || !g)
        goto no_memory;
    c->emu = e;
    c->index = index;
    c->engine = g;
    c->scratch = g->scratch;
    c->jumps = emu_alloc(e, UOP_JUMPS_ALL * sizeof *c->jumps);
    if (!c->jumps || mem_mmu_create(c))
        goto no_memory;
    *out = c;
    return 0;
no_memory:
    if (c)
        emu_free(e, c->jumps);
    emu_free(e, g);
    emu_free(e, c);
    return err_set(err, EMU_ENOMEM, "out of memory for CPU %u", index);
}

EMU_PRIV void cpu_destroy(struct cpu *c)
{
    struct emu *e;
    if (!c)
        return;
    e = c->emu;
    mem_mmu_destroy(c);
    emu_free(e, c->jumps);
    emu_free(e, c->engine);
    emu_free(e, c);
}

/* ---- signals from outside ---- */

EMU_PRIV void cpu_kick(struct cpu *c)
{
    if (c->budget >= 0) {
        c->budget_hold += c->budget + 1;
        c->budget = -1;
    }
}

EMU_PRIV void cpu_set_interrupt(struct cpu *c, unsigned kind, bool on)
{
    if (!on) {
        c->pending &= ~kind;
        return;
    }
    c->pending |= kind;
    c->attention |= CPU_ATTENTION_INT;
    cpu_kick(c);
}

EMU_PRIV void cpu_send_sipi(struct cpu *c, uint8_t vector)
{
    c->sipi_vector = vector;
    cpu_set_interrupt(c, CPU_INT_SIPI, true);
}

EMU_PRIV bool cpu_can_run(const struct cpu *c)
{
    if (c->shutdown || (c->pending & CPU_INT_INIT))
        return true;
    if (c->waiting_sipi)
        return (c->pending & CPU_INT_SIPI) != 0;
    if (!c->halted && !c->napping)
        return true;
    return ((c->pending & CPU_INT_NMI) && !c->nmi_blocked) || ((c->pending & CPU_INT_INTR) && (c->eflags & FLAG_IF));
}

EMU_PRIV uint64_t cpu_insn_count(struct cpu *c)
{
    return c->icount + (uint64_t)(c->budget_start - c->budget - c->budget_hold) + c->inflight;
}

EMU_PRIV int cpu_breakpoint_set(struct emu *e, const struct breakpoint *b, bool on)
{
    unsigned i, k;
    if (b->kind != 0) {
        int r = mem_watch_set(e, b->va, b->size, b->kind, on);
        if (r)
            return r;
    }
    for (i = 0; i < e->cpu_count; i++) {
        struct cpu *c = e->cpus[i];
        struct run_engine *g = c->engine;
        if (b->kind != 0) {
            g->watches += on ? 1u : g->watches ? UINT_MAX : 0u;
        } else if (on) {
            if (g->breakpoints == RUN_BREAKPOINTS)
                return EMU_ENOSPC;
            g->breakpoint[g->breakpoints++] = b->va;
        } else {
            for (k = 0; k < g->breakpoints; k++)
                if (g->breakpoint[k] == b->va) {
                    g->breakpoint[k] = g->breakpoint[--g->breakpoints];
                    break;
                }
        }
        c->debugger_stops = g->breakpoints || g->watches;
        cpu_update_mode(c);
        c->attention |= CPU_ATTENTION_INT;
    }
    return 0;
}

/* ---- counting ---- */

static void run_begin(struct cpu *c, int64_t budget)
{
    c->budget = c->budget_start = budget;
    c->budget_hold = 0;
    c->leave_stub = c->promote = NULL;
    c->leave_fault = 0;
}

/* Ends a stretch: instructions retired in it. */
static int64_t run_end(struct cpu *c)
{
    int64_t n = c->budget_start - c->budget - c->budget_hold;
    c->icount += (uint64_t)n;
    c->budget = c->budget_start = c->budget_hold = 0;
    c->inflight = 0;
    return n;
}

/* ---- finding traces ---- */

/* Code that no block backs: bytes are copied each time. */
static struct trace *run_build_copied(struct cpu *c, uint64_t gpa, unsigned offset, uint64_t va)
{
    struct run_engine *g = c->engine;
    unsigned n = EMU_MIN(15u, RUN_PAGE - offset);
    gpa = (gpa & ~(uint64_t)(RUN_PAGE - 1)) + offset;
    mem_read(c->emu, gpa, g->copy + offset, n);
    if (n < 15) {
        struct phys_page second;
        uint64_t gpa2;
        if (!cpu_code_page(c, va + n, &second, &gpa2)) {
            mem_read(c->emu, gpa2 & ~(uint64_t)(RUN_PAGE - 1), g->copy + offset + n, 15 - n);
            n = 15;
        }
    }
    return trace_build(c, NULL, 0, offset, c->mode_key | KEY_STEP, TRACE_STEP, g->copy, n);
}

static bool run_second_page_same(struct cpu *c, const struct trace *t, uint64_t va)
{
    struct phys_page second;
    uint64_t gpa;
    va = (va & ~(uint64_t)(RUN_PAGE - 1)) + RUN_PAGE;
    if (c->code_size != 8)
        va &= 0xFFFFFFFFu;
    return !cpu_code_page(c, va, &second, &gpa) && second.block == t->block2 && (!second.block || second.block_offset == t->offset2);
}

/* The trace at c->rip, or NULL with cpu->fault. *step: only one instruction at a time (asked for, or found necessary). */
static struct trace *run_find(struct cpu *c, bool *step)
{
    struct emu *e = c->emu;
    uint64_t base = c->code_size == 8 ? 0 : c->seg_base[SEG_CS], va = base + c->rip, gpa;
    uint32_t key = c->mode_key;
    unsigned offset;
    struct phys_page page;
    struct trace *t;
    struct trace_stats *stats = trace_stats_of(e);
    bool copied;
    stats->lookups++;
    if (c->code_size == 8) {
        if (EMU_UNLIKELY(!cpu_canonical(c, va))) {
            cpu_raise_error(c, EXC_GP, 0);
            return NULL;
        }
    } else {
        va &= 0xFFFFFFFFu;
    }
    offset = (unsigned)va & (RUN_PAGE - 1);
    if (c->code_size != 8 && !(key & KEY_FLAT_CS)) { /* segment limit, IP wrap */
        uint64_t limit = c->seg[SEG_CS].limit, last = c->rip - offset + RUN_PAGE - 1;
        if (c->rip > limit) {
            cpu_raise_error(c, EXC_GP, 0);
            return NULL;
        }
        if (c->rip < offset) {
            key |= KEY_PARTIAL;
            last = c->rip + (RUN_PAGE - 1 - offset);
        }
        if (last > limit || (c->code_size == 2 && last > 0xFFFF))
            *step = true;
    }
    if (EMU_UNLIKELY(cpu_code_page(c, va, &page, &gpa)))
        return NULL;
    c->code_base = va - offset - base;
    copied = !page.block || page.partial;
    if (EMU_UNLIKELY(copied)) {
        *step = true;
        t = run_build_copied(c, gpa, offset, va);
    } else {
        if (*step)
            key |= KEY_STEP;
        t = trace_find(e, page.block, page.block_offset + offset, key);
        if (t && t->straddles && !run_second_page_same(c, t, va))
            t = NULL;
        if (!t) {
            int64_t from = host_clock_ns();
            t = trace_build(c, page.block, page.block_offset, offset, key, *step ? TRACE_STEP : TRACE_TIER1, NULL, 0);
            stats->build_ns += (uint64_t)(host_clock_ns() - from);
        }
    }
    if (t && (*step || t->straddles) && c->code_size != 8 && !(c->mode_key & KEY_FLAT_CS) && t->row && c->rip + t->bytes - 1 > c->seg[SEG_CS].limit) {
        cpu_raise_error(c, EXC_GP, 0);
        return NULL;
    }
    if (t && !*step && (c->mode_key & KEY_FLAT_CS)) {
        struct uop_jump *j = UOP_JUMP_ENTRY(c->rip);
        const uint8_t *host = cpu_code_host(c, va, &j->generation);
        j->rip = c->rip;
        j->key = c->mode_key;
        j->host = t->straddles ? NULL : host;
        j->u = t->head;
        *UOP_JUMP_ENTRY2(c->rip) = *j;
    }
    return t;
}

/* ---- one instruction ---- */

/* next: the address behind it. INTO is one only where it was taken. */
static bool run_is_software_interrupt(const struct cpu *c, const struct trace *t, uint64_t next)
{
    return t->row && t->row->how == HOW_CALL && !strncmp(t->row->name, "int", 3) && (strcmp(t->row->name, "into") || c->rip != next);
}
/* Single-stepping asks for TF as it is after SYSCALL: FMASK takes it away, and the kernel's first instruction has the user's stack still. */
static bool run_is_syscall(const struct trace *t) { return t->row && !strcmp(t->row->name, "syscall"); }

/* Executes one instruction with everything that single-stepping needs. Retired instructions: 0 or 1. */
static int64_t run_one(struct cpu *c)
{
    bool step = true, trap = (c->eflags & FLAG_TF) != 0, faulted = false;
    struct trace *t;
    uint64_t start = c->rip;
    int64_t n;
    c->interrupt_shadow = 0; /* the instruction may set it anew */
    run_begin(c, 0);
    if (c->mode_key & KEY_DEBUG) {
        if (cpu_check_exec_breakpoint(c, (c->code_size == 8 ? 0 : c->seg_base[SEG_CS]) + c->rip)) {
            run_end(c);
            cpu_deliver_fault(c);
            return 0;
        }
    } else {
        c->eflags &= ~(uint32_t)FLAG_RF;
    }
    t = run_find(c, &step);
    if (t) {
        uop_enter(c, t->head);
        faulted = c->leave_fault != 0;
        if (trap && run_is_syscall(t))
            trap = (c->eflags & FLAG_TF) != 0;
    }
    n = run_end(c);
    c->step_insns += (uint64_t)n;
    if (!t || faulted) {
        c->debug_hits = 0;
        cpu_deliver_fault(c);
        return n;
    }
    if (c->debug_hits || (trap && !run_is_software_interrupt(c, t, start + t->bytes))) {
        if (c->interrupt_shadow == CPU_SHADOW_SS && !c->debug_hits) /* after the next instruction; STI holds back no trap */
            return n;
        cpu_debug_trap(c, c->debug_hits | (trap ? UINT64_C(0x4000) : 0));
    }
    return n;
}

EMU_PRIV enum cpu_exit cpu_step(struct cpu *c)
{
    bool watched;
    trace_flush_pending(c->emu);
    c->attention = 0;
    if (c->halted || c->waiting_sipi)
        return CPU_EXIT_HALTED;
    run_one(c);
    watched = c->watch_hit;
    c->watch_hit = false;
    return c->shutdown ? CPU_EXIT_SHUTDOWN : watched ? CPU_EXIT_WATCHPOINT : c->halted ? CPU_EXIT_HALTED : CPU_EXIT_BUDGET;
}

/* ---- events between instructions ---- */

static void run_sipi(struct cpu *c)
{
    c->pending &= ~(uint32_t)CPU_INT_SIPI;
    if (!c->waiting_sipi)
        return;
    c->waiting_sipi = false;
    cpu_set_segment_real(c, SEG_CS, (uint16_t)(c->sipi_vector << 8));
    c->rip = 0;
    cpu_update_mode(c);
}

static void run_events(struct cpu *c)
{
    if (c->pending & CPU_INT_INIT) {
        c->pending &= ~(uint32_t)CPU_INT_INIT; /* a SIPI that follows at once stays: lapic.c drops those from before the INIT */
        cpu_reset(c, true);
        return;
    }
    if (c->pending & CPU_INT_SIPI)
        run_sipi(c);
    if (c->waiting_sipi || c->interrupt_shadow)
        return;
    if ((c->pending & CPU_INT_NMI) && !c->nmi_blocked) {
        c->pending &= ~(uint32_t)CPU_INT_NMI;
        cpu_deliver_interrupt(c, EXC_NMI);
        return;
    }
    if ((c->pending & CPU_INT_INTR) && (c->eflags & FLAG_IF)) {
        int vector = apic_acknowledge(c->emu, c);
        if (vector >= 0)
            cpu_deliver_interrupt(c, (unsigned)vector);
    }
}

static bool run_at_breakpoint(struct cpu *c)
{
    struct run_engine *g = c->engine;
    uint64_t va = (c->code_size == 8 ? 0 : c->seg_base[SEG_CS]) + c->rip;
    unsigned k;
    bool again = g->stopped && g->stopped_at == va;
    g->stopped = false;
    if (again)
        return false;
    for (k = 0; k < g->breakpoints; k++)
        if (g->breakpoint[k] == va) {
            g->stopped = true;
            g->stopped_at = va;
            return true;
        }
    return false;
}

/* Traces until the budget is used up or something needs the boundary. Retired instructions. */
static int64_t run_traces(struct cpu *c, int64_t budget)
{
    struct trace *t;
    int64_t n;
    run_begin(c, budget);
    for (;;) {
        bool step = false;
        struct uop *stub = c->leave_stub, *promote = c->promote;
        c->leave_stub = c->promote = NULL;
        if (EMU_UNLIKELY(promote != NULL)) {
            int64_t from = host_clock_ns();
            trace_promote(c, promote);
            trace_stats_of(c->emu)->build_ns += (uint64_t)(host_clock_ns() - from);
            stub = NULL;
        }
        c->leave_stub = stub; /* a flush clears it */
        t = run_find(c, &step);
        stub = c->leave_stub;
        c->leave_stub = NULL;
        if (EMU_UNLIKELY(!t)) {
            c->leave_fault = 1;
            break;
        }
        if (EMU_UNLIKELY(step)) { /* only this way for this page: one instruction, then look again */
            int64_t left = c->budget;
            c->budget_hold += left;
            c->budget = 0;
            uop_enter(c, t->head);
            if (c->leave_fault || c->attention)
                break;
            c->budget += c->budget_hold;
            c->budget_hold = 0;
        } else {
            if (stub)
                trace_link_stub(c, stub, t);
            uop_enter(c, t->head);
        }
        if (c->leave_fault || c->budget < 0 || c->attention || c->halted || c->interrupt_shadow || (c->pending && (c->eflags & FLAG_IF)) ||
            (c->eflags & FLAG_TF) || (c->mode_key & KEY_DEBUG))
            break;
    }
    n = run_end(c);
    if (c->leave_fault) {
        c->leave_fault = 0;
        cpu_deliver_fault(c);
    }
    return n;
}

/* -d exec and -d cpu, before a trace. */
static void run_log(struct cpu *c)
{
    uint64_t base = c->code_size == 8 ? 0 : c->seg_base[SEG_CS];
    emu_log(c->emu, LOG_EXEC, "Trace %u: [%08" PRIx64 "/%016" PRIx64 "/%08x]", c->index, base, base + c->rip, (unsigned)c->mode_key);
    if (EMU_LOG_ENABLED(c->emu, LOG_CPU))
        cpu_log_registers(c, LOG_CPU);
}

EMU_PRIV enum cpu_exit cpu_run(struct cpu *c, int64_t budget)
{
    struct emu *e = c->emu;
    bool exact = e->config.icount || budget < RUN_EXACT_BELOW;
    int64_t left = budget;
    c->attention &= ~(uint32_t)CPU_ATTENTION_TIMER;
    c->napping = false;
    for (;;) {
        uint32_t attention = c->attention;
        c->attention = 0;
        if (EMU_UNLIKELY(attention & CPU_ATTENTION_CODE))
            trace_flush_pending(e);
        if (EMU_UNLIKELY(c->shutdown))
            return CPU_EXIT_SHUTDOWN;
        if (EMU_UNLIKELY(emu_has_requests(e)))
            return CPU_EXIT_REQUEST;
        if (EMU_UNLIKELY(attention & CPU_ATTENTION_TIMER))
            return CPU_EXIT_BUDGET;
        if (c->pending) {
            run_events(c);
            if (EMU_UNLIKELY(c->shutdown))
                continue;
        }
        if (c->halted || c->waiting_sipi)
            return CPU_EXIT_HALTED;
        if (left <= 0)
            return CPU_EXIT_BUDGET;
        if (EMU_UNLIKELY((c->mode_key & KEY_DEBUG) && c->debugger_stops && run_at_breakpoint(c)))
            return CPU_EXIT_BREAKPOINT;
        if (EMU_LOG_ENABLED(e, LOG_EXEC | LOG_CPU) && (left > RUN_MARGIN || exact))
            run_log(c);
        if (EMU_UNLIKELY(c->interrupt_shadow || (c->eflags & (FLAG_TF | FLAG_RF)) || (c->mode_key & KEY_DEBUG))) {
            left -= run_one(c);
            if (EMU_UNLIKELY(c->watch_hit)) {
                c->watch_hit = false;
                return CPU_EXIT_WATCHPOINT;
            }
        } else if (left <= RUN_MARGIN) {
            if (!exact)
                return CPU_EXIT_BUDGET;
            left -= run_one(c);
        } else {
            left -= run_traces(c, EMU_LOG_ENABLED(e, LOG_EXEC | LOG_CPU) ? 0 : EMU_MIN(left - RUN_MARGIN, (int64_t)RUN_STRETCH)); /* 0: one trace */
        }
    }
}
