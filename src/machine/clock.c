/* machine/clock.c - virtual time and the event queue.
 *
 * Contract   Devices read emu_now_ns() and arm timers; the run loop asks for the next deadline and runs what is due.
 * Theory     Virtual time is nanoseconds since power-on. Without -icount it follows the host's monotonic clock, sampled at every read:
 *            virtual = host - origin. A jump of more than CLOCK_STALL_NS between two reads (the host slept, a debugger stopped
 *            us) counts as CLOCK_STALL_NS only: the origin moves. While frozen it stands still. With -icount it is (instructions << shift) plus
 *            what was skipped while the CPUs were idle; no host clock enters, so that a run repeats bit for bit.
 *            The queue is a binary heap ordered by (deadline, order of arming).
 * Invariants 1. emu_now_ns() never goes back.
 *            2. timer_heap[t->heap_index] == t for every armed timer.
 *            3. A callback may arm or cancel any timer, its own included.
 */
#include "../machine.h"
#include "../cpu/cpu.h"

/* A host stall longer than this is cut down to it: guests' watchdogs would bark at the full jump. */
#define CLOCK_STALL_NS (2 * NS_PER_SEC)

static int64_t clock_icount_ns(struct emu *e)
{
    uint64_t n = e->current_cpu ? e->insn_total + cpu_insn_count(e->current_cpu) - e->insn_at_entry : e->insn_total;
    return (int64_t)(n << e->config.icount_shift) + e->icount_bias_ns;
}

EMU_PRIV int64_t emu_now_ns(struct emu *e)
{
    int64_t now;
    if (e->config.icount) {
        now = clock_icount_ns(e);
    } else {
        if (e->clock_frozen)
            return e->clock_last_ns;
        now = host_clock_ns() - e->clock_host_origin_ns;
        if (EMU_UNLIKELY(now > e->clock_last_ns + CLOCK_STALL_NS)) {
            e->clock_host_origin_ns += now - (e->clock_last_ns + CLOCK_STALL_NS);
            now = e->clock_last_ns + CLOCK_STALL_NS;
        }
    }
    if (now > e->clock_last_ns)
        e->clock_last_ns = now;
    return e->clock_last_ns;
}

EMU_PRIV void clock_freeze(struct emu *e, bool frozen)
{
    if (e->clock_frozen == frozen)
        return;
    if (frozen)
        emu_now_ns(e);
    else
        e->clock_host_origin_ns = host_clock_ns() - e->clock_last_ns;
    e->clock_frozen = frozen;
}

EMU_PRIV void clock_warp_to(struct emu *e, int64_t ns)
{
    int64_t now = emu_now_ns(e);
    if (e->config.icount && ns > now)
        e->icount_bias_ns += ns - now;
}

/* ---- the heap ---- */

static bool clock_before(const struct timer *a, const struct timer *b)
{
    return a->deadline_ns < b->deadline_ns || (a->deadline_ns == b->deadline_ns && a->order < b->order);
}

static void clock_place(struct emu *e, struct timer *t, size_t i)
{
    e->timer_heap[i] = t;
    t->heap_index = (int)i;
}

/* Moves the timer at i to where it belongs, up or down. */
static void clock_sift(struct emu *e, size_t i)
{
    struct timer *t = e->timer_heap[i];
    while (i && clock_before(t, e->timer_heap[(i - 1) / 2])) {
        clock_place(e, e->timer_heap[(i - 1) / 2], i);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= e->timer_count)
            break;
        if (child + 1 < e->timer_count && clock_before(e->timer_heap[child + 1], e->timer_heap[child]))
            child++;
        if (!clock_before(e->timer_heap[child], t))
            break;
        clock_place(e, e->timer_heap[child], i);
        i = child;
    }
    clock_place(e, t, i);
}

EMU_PRIV void timer_init(struct timer *t, struct emu *e, timer_fn fn, void *opaque)
{
    memset(t, 0, sizeof *t);
    t->emu = e;
    t->fn = fn;
    t->opaque = opaque;
    t->heap_index = -1;
}

EMU_PRIV bool timer_armed(const struct timer *t) { return t->heap_index >= 0; }

EMU_PRIV void timer_arm(struct timer *t, int64_t deadline_ns)
{
    struct emu *e = t->emu;
    t->deadline_ns = deadline_ns;
    t->order = e->timer_order++;
    if (t->heap_index < 0) {
        if (e->timer_count == e->timer_capacity) {
            size_t capacity = e->timer_capacity ? e->timer_capacity * 2 : 256;
            struct timer **heap = emu_realloc(e, e->timer_heap, capacity * sizeof *heap);
            if (!heap) { /* keep the machine going: the event is lost, which is said, and the run ends */
                emu_log(e, LOG_NOTICE, "out of memory for timers; the machine stops");
                emu_exit_with(e, 1);
                return;
            }
            e->timer_heap = heap;
            e->timer_capacity = capacity;
        }
        t->heap_index = (int)e->timer_count;
        e->timer_heap[e->timer_count++] = t;
    }
    clock_sift(e, (size_t)t->heap_index);
    if (t->heap_index == 0 && e->current_cpu)
        e->current_cpu->attention |= CPU_ATTENTION_TIMER; /* the running budget may be too long now */
}

EMU_PRIV void timer_cancel(struct timer *t)
{
    struct emu *e = t->emu;
    size_t i;
    if (t->heap_index < 0)
        return;
    i = (size_t)t->heap_index;
    t->heap_index = -1;
    if (i != --e->timer_count) {
        clock_place(e, e->timer_heap[e->timer_count], i);
        clock_sift(e, i);
    }
}

EMU_PRIV int64_t clock_next_deadline(struct emu *e) { return e->timer_count ? e->timer_heap[0]->deadline_ns : INT64_MAX; }

EMU_PRIV void clock_run_timers(struct emu *e)
{
    int64_t now = emu_now_ns(e);
    while (e->timer_count && e->timer_heap[0]->deadline_ns <= now) {
        struct timer *t = e->timer_heap[0];
        timer_cancel(t);
        t->fn(t->opaque);
    }
}

EMU_PRIV int clock_create(struct emu *e)
{
    e->timer_capacity = 256;
    e->timer_heap = emu_alloc(e, e->timer_capacity * sizeof *e->timer_heap);
    if (!e->timer_heap)
        return EMU_ENOMEM;
    e->clock_host_origin_ns = host_clock_ns();
    return 0;
}

EMU_PRIV void clock_destroy(struct emu *e)
{
    size_t i;
    for (i = 0; i < e->timer_count; i++)
        e->timer_heap[i]->heap_index = -1;
    emu_free(e, e->timer_heap);
    e->timer_heap = NULL;
    e->timer_count = e->timer_capacity = 0;
}
