/* machine/loop.c - the run loop: CPUs, events, descriptors and requests take turns in one thread.
 *
 * Contract   front/api.c calls machine_run(); devices and the monitor raise requests; backends register watches and poll hooks.
 * Theory     Round: carry out requests - run due timers - look at descriptors if it is time - give each runnable CPU a quantum. The quantum ends
 *            at the next deadline (exactly under -icount; by the measured speed otherwise) or at the poll interval. When no CPU can
 *            run, the one blocking place of the program is the poll below, until the next deadline or descriptor.
 *            Under -icount idle time is skipped by moving virtual time to the next deadline; unless sleep=off it is not
 *            skipped faster than the host's clock passes, which changes no value the guest sees. A caller that may not be blocked gets the
 *            call back after LOOP_IDLE_STEPS such moves in a row: no instruction comes that could reach its limit if the CPUs halt for good.
 *
 *            running --REQ_STOP--> paused --resume--> running      (loop_set_state)
 *            running --REQ_SHUTDOWN, reset with -no-reboot--> shutdown: machine_run returns, or paused with -no-shutdown
 *            A guest that polls for a key or a serial byte (GRUB's menu, DOS programs) never halts. Who answers "nothing" says so with
 *            machine_polled_in_vain(); LOOP_NAP_POLLS such answers in a row, with fewer than LOOP_NAP_INSNS instructions between one and
 *            the next, make that CPU nap: it does not run until an interrupt for it, any due timer, any descriptor, or LOOP_NAP_NS.
 *
 * Invariants 1. current_cpu is NULL outside of cpu_run().
 *            2. A watch removed during a poll round is not called in that round.
 *            3. No sleep is longer than LOOP_MAX_SLEEP_NS, so that the clock's stall rule never takes sleep for a stall.
 */
#include "../machine.h"
#include "../cpu/cpu.h"

#define LOOP_MAX_SLEEP_NS NS_PER_SEC
#define LOOP_POLL_ACTIVE_NS (200 * NS_PER_US)
#define LOOP_POLL_IDLE_NS (10 * NS_PER_MS)
#define LOOP_POLL_SHARE 4 /* times what a look cost pass until the next: a thousand descriptors cost 0.1 ms */
#define LOOP_MIN_QUANTUM 2000 /* over what cpu_run() keeps exactly, which costs a look-up for each of the last instructions */
#define LOOP_MAX_QUANTUM 4000000
#define LOOP_SMP_QUANTUM 20000
#define LOOP_IDLE_STEPS 1000
#define LOOP_NAP_POLLS 1000
#define LOOP_NAP_INSNS 4000
#define LOOP_NAP_NS (20 * NS_PER_MS)
#define LOOP_STEP_HALT_NS NS_PER_SEC

/* ---- requests ---- */

EMU_PRIV void emu_request(struct emu *e, unsigned bits)
{
    e->requests |= bits;
    if (e->current_cpu)
        e->current_cpu->attention |= CPU_ATTENTION_REQUEST;
    if (e->wake_write != HOST_FD_NONE)
        host_wake(e->wake_write);
}

EMU_PRIV void emu_request_outside(struct emu *e, enum outside_request which)
{
    e->outside[which] = 1;
    if (e->wake_write != HOST_FD_NONE)
        host_wake(e->wake_write);
}

EMU_PRIV bool emu_has_requests(const struct emu *e) { return e->requests || e->outside[OUTSIDE_EXIT] || e->outside[OUTSIDE_EMBEDDER]; }

EMU_PRIV void emu_exit_with(struct emu *e, int status)
{
    e->exit_status = status;
    emu_request(e, REQ_EXIT);
}

static void loop_set_state(struct emu *e, enum run_state state)
{
    if (e->run_state == state)
        return;
    e->run_state = state;
    clock_freeze(e, state != RUN_STATE_RUNNING);
    if (e->on_run_state)
        e->on_run_state(e, state);
}

EMU_PRIV void machine_pause(struct emu *e) { loop_set_state(e, RUN_STATE_PAUSED); }

EMU_PRIV int machine_resume(struct emu *e)
{
    if (e->run_state == RUN_STATE_SHUTDOWN)
        return EMU_EINVAL;
    loop_set_state(e, RUN_STATE_RUNNING);
    return 0;
}

/* ---- naps ---- */

static void loop_end_naps(struct emu *e)
{
    unsigned i;
    if (!e->napping)
        return;
    e->napping = false;
    timer_cancel(&e->nap_timer);
    for (i = 0; i < e->cpu_count; i++)
        e->cpus[i]->napping = false;
}

static void loop_nap_over(void *opaque) { loop_end_naps(opaque); }

EMU_PRIV void machine_polled_in_vain(struct emu *e, struct nap_watch *w)
{
    struct cpu *c = e->current_cpu;
    uint64_t insns;
    if (!c)
        return;
    insns = cpu_insn_count(c);
    w->polls = insns - w->insns < LOOP_NAP_INSNS ? w->polls + 1 : 0;
    w->insns = insns;
    if (w->polls < LOOP_NAP_POLLS || e->gdb_count)
        return;
    w->polls = LOOP_NAP_POLLS;
    c->napping = e->napping = true;
    timer_arm(&e->nap_timer, emu_now_ns(e) + LOOP_NAP_NS);
    c->attention |= CPU_ATTENTION_TIMER;
    cpu_kick(c);
}

EMU_PRIV void machine_reset(struct emu *e)
{
    loop_end_naps(e);
    board_reset(e);
    if (e->run_state == RUN_STATE_SHUTDOWN)
        loop_set_state(e, RUN_STATE_PAUSED);
}

/* Carries out what was asked for. true: machine_run() is to return *reason. */
static bool loop_handle_requests(struct emu *e, int *reason)
{
    static const uint8_t outside[OUTSIDE_COUNT] = { REQ_EXIT, REQ_EMBEDDER };
    unsigned r, k;
    for (k = 0; k < OUTSIDE_COUNT; k++)
        if (e->outside[k]) {
            e->outside[k] = 0;
            e->requests |= outside[k];
        }
    r = e->requests;
    if (!r)
        return false;
    e->requests = 0;
    if (r & REQ_EXIT) {
        *reason = EMU_REASON_EXIT;
        return true;
    }
    if ((r & REQ_RESET) && e->config.no_reboot)
        r = (r & ~(unsigned)REQ_RESET) | REQ_SHUTDOWN;
    if (r & REQ_SHUTDOWN) {
        if (!e->config.no_shutdown) {
            e->exit_status = 0;
            *reason = EMU_REASON_EXIT;
            loop_set_state(e, RUN_STATE_SHUTDOWN);
            return true;
        }
        loop_set_state(e, RUN_STATE_SHUTDOWN);
    }
    if (r & REQ_RESET)
        machine_reset(e);
    if (r & REQ_POWERDOWN)
        acpi_power_button(e);
    if (r & REQ_STOP)
        machine_pause(e);
    if (r & REQ_EMBEDDER) {
        *reason = EMU_REASON_STOPPED;
        return true;
    }
    return false;
}

/* ---- descriptors ---- */

EMU_PRIV void watch_add(struct emu *e, struct watch *w, host_fd fd, unsigned want, void (*ready)(void *, unsigned), void *opaque)
{
    w->fd = fd;
    w->want = (uint8_t)want;
    w->ready = ready;
    w->opaque = opaque;
    w->removed = false;
    w->next = e->watches;
    w->link = &e->watches;
    if (e->watches)
        e->watches->link = &w->next;
    e->watches = w;
    e->watch_count++;
}

EMU_PRIV void watch_remove(struct emu *e, struct watch *w)
{
    size_t i;
    if (!w->link)
        return;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
    w->removed = true;
    e->watch_count--;
    for (i = 0; i < e->poll_count; i++) /* invariant 2 */
        if (e->poll_watches[i] == w)
            e->poll_watches[i] = NULL;
}

EMU_PRIV void poll_hook_add(struct emu *e, struct poll_hook *h)
{
    h->next = e->poll_hooks;
    e->poll_hooks = h;
}

EMU_PRIV void poll_hook_remove(struct emu *e, struct poll_hook *h)
{
    struct poll_hook **p;
    for (p = &e->poll_hooks; *p; p = &(*p)->next)
        if (*p == h) {
            *p = h->next;
            return;
        }
}

EMU_PRIV void emu_poll_now(struct emu *e) { e->poll_interval_ns = LOOP_POLL_ACTIVE_NS; }

/* Grows the arrays that a poll round fills; false: out of memory, the round is skipped. */
static bool loop_poll_room(struct emu *e, size_t count)
{
    struct host_poll_item *items;
    struct watch **watches;
    if (count <= e->poll_capacity)
        return true;
    count = count * 2 + 16;
    items = emu_realloc(e, e->poll_items, count * sizeof *items);
    if (items)
        e->poll_items = items;
    watches = emu_realloc(e, e->poll_watches, count * sizeof *watches);
    if (watches)
        e->poll_watches = watches;
    if (!items || !watches)
        return false;
    e->poll_capacity = count;
    return true;
}

/* One look at all descriptors, waiting up to timeout_ns, and the callbacks of those that are ready. */
static void loop_poll(struct emu *e, int64_t timeout_ns)
{
    struct watch *w;
    struct poll_hook *h, *next;
    size_t i, n = 0;
    int64_t began = timeout_ns ? 0 : host_clock_ns(), rest = 0;
    int ready;
    if (loop_poll_room(e, e->watch_count + 1)) {
        if (e->wake_read != HOST_FD_NONE) {
            e->poll_items[n].fd = e->wake_read;
            e->poll_items[n].want = HOST_READ;
            e->poll_watches[n++] = NULL;
        }
        for (w = e->watches; w; w = w->next)
            if (w->want) {
                e->poll_items[n].fd = w->fd;
                e->poll_items[n].want = w->want;
                e->poll_watches[n++] = w;
            }
    }
    for (i = 0; i < n; i++)
        e->poll_items[i].ready = 0;
    e->poll_count = n;
    ready = host_poll(e->poll_items, n, emu_has_requests(e) ? 0 : timeout_ns);
    if (!timeout_ns) /* the guest runs and wants the time itself */
        rest = EMU_MIN((host_clock_ns() - began) * LOOP_POLL_SHARE, LOOP_POLL_IDLE_NS);
    if (ready > 0) {
        loop_end_naps(e);
        if (n && e->wake_read != HOST_FD_NONE && e->poll_items[0].ready)
            host_wake_drain(e->wake_read);
        for (i = 0; i < e->poll_count; i++) {
            w = e->poll_watches[i];
            if (w && e->poll_items[i].ready)
                w->ready(w->opaque, e->poll_items[i].ready);
        }
        e->poll_interval_ns = LOOP_POLL_ACTIVE_NS;
    } else if (e->poll_interval_ns < LOOP_POLL_IDLE_NS) {
        e->poll_interval_ns += e->poll_interval_ns / 4;
    }
    e->poll_count = 0;
    for (h = e->poll_hooks; h; h = next) {
        next = h->next;
        h->fn(h->opaque);
    }
    e->next_poll_host_ns = host_clock_ns() + EMU_MAX(e->poll_interval_ns, rest);
}

/* ---- CPUs ---- */

static bool loop_any_cpu_runs(struct emu *e)
{
    unsigned i;
    for (i = 0; i < e->cpu_count; i++)
        if (cpu_can_run(e->cpus[i]))
            return true;
    return false;
}

/* Instructions until the next thing that the loop must do. */
static int64_t loop_budget(struct emu *e, int64_t insns_left)
{
    int64_t left_ns = clock_next_deadline(e), now = emu_now_ns(e), budget;
    left_ns = left_ns <= now ? 0 : left_ns - now;
    if (e->config.icount) {
        budget = LOOP_MAX_QUANTUM;
        if (left_ns >> e->config.icount_shift < budget)
            budget = (left_ns + (INT64_C(1) << e->config.icount_shift) - 1) >> e->config.icount_shift;
        if (budget < 1)
            budget = 1;
    } else {
        int64_t poll_ns = e->next_poll_host_ns - host_clock_ns();
        if (left_ns > poll_ns)
            left_ns = poll_ns;
        if (left_ns < 0)
            left_ns = 0;
        budget = left_ns > 100 * NS_PER_MS ? LOOP_MAX_QUANTUM : (int64_t)((uint64_t)left_ns * e->insns_per_us / 1000);
        budget = EMU_MAX(budget, LOOP_MIN_QUANTUM);
        budget = EMU_MIN(budget, LOOP_MAX_QUANTUM);
    }
    if (e->cpu_count > 1)
        budget = EMU_MIN(budget, LOOP_SMP_QUANTUM);
    if (insns_left >= 0 && budget > insns_left)
        budget = insns_left;
    return budget;
}

static enum cpu_exit loop_enter_cpu(struct emu *e, struct cpu *c, int64_t budget)
{
    enum cpu_exit why;
    e->current_cpu = c;
    e->insn_at_entry = c->icount;
    why = cpu_run(c, budget);
    e->current_cpu = NULL;
    e->insn_total += c->icount - e->insn_at_entry;
    return why;
}

/* A halted processor that is stepped: timers run until one of them wakes it, which it takes as the end of HLT only; nothing is polled meanwhile. */
static void loop_step_out_of_halt(struct emu *e, struct cpu *c)
{
    int64_t end = host_clock_ns() + LOOP_STEP_HALT_NS;
    while (!cpu_can_run(c) && clock_next_deadline(e) != INT64_MAX && host_clock_ns() < end) {
        int64_t wait = clock_next_deadline(e) - emu_now_ns(e);
        clock_warp_to(e, clock_next_deadline(e));
        if (!e->config.icount && wait > 0)
            host_poll(NULL, 0, EMU_MIN(wait, LOOP_STEP_HALT_NS / 100));
        clock_run_timers(e);
    }
    if (cpu_can_run(c))
        c->halted = false;
}

EMU_PRIV bool machine_step(struct emu *e, struct cpu *c)
{
    enum cpu_exit why;
    clock_freeze(e, false);
    clock_run_timers(e);
    if (c->halted)
        loop_step_out_of_halt(e, c);
    e->current_cpu = c;
    e->insn_at_entry = c->icount;
    why = cpu_step(c);
    if (why == CPU_EXIT_SHUTDOWN)
        emu_request(e, REQ_RESET);
    e->current_cpu = NULL;
    e->insn_total += c->icount - e->insn_at_entry;
    clock_freeze(e, e->run_state != RUN_STATE_RUNNING);
    return why == CPU_EXIT_WATCHPOINT;
}

/* One quantum of each CPU. Keeps the estimate of host speed. */
static void loop_run_cpus(struct emu *e, int64_t insns_left)
{
    unsigned i;
    for (i = 0; i < e->cpu_count && !emu_has_requests(e); i++) {
        struct cpu *c = e->cpus[(e->next_cpu + i) % e->cpu_count];
        int64_t budget, host_ns = 0;
        uint64_t before = e->insn_total;
        enum cpu_exit why;
        if (!cpu_can_run(c))
            continue;
        budget = loop_budget(e, insns_left);
        if (!budget)
            break;
        if (!e->config.icount)
            host_ns = host_clock_ns();
        why = loop_enter_cpu(e, c, budget);
        before = e->insn_total - before;
        if (insns_left >= 0)
            insns_left -= (int64_t)before;
        if (!e->config.icount && before > LOOP_MIN_QUANTUM / 2) {
            host_ns = host_clock_ns() - host_ns;
            if (host_ns > 0) {
                uint64_t speed = before * 1000 / (uint64_t)host_ns;
                e->insns_per_us = (e->insns_per_us * 7 + EMU_MAX(speed, (uint64_t)1)) / 8;
                e->insns_per_us = EMU_MAX(e->insns_per_us, (uint64_t)1);
            }
        }
        switch (why) {
        case CPU_EXIT_SHUTDOWN: emu_request(e, REQ_RESET); break;
        case CPU_EXIT_BREAKPOINT:
        case CPU_EXIT_WATCHPOINT:
            e->break_cpu = c->index;
            e->on_break_pending = true;
            machine_pause(e);
            e->on_break_pending = false;
            if (e->on_break)
                e->on_break(e, c, (int)why);
            return;
        default: break;
        }
    }
    if (e->cpu_count)
        e->next_cpu = (e->next_cpu + 1) % e->cpu_count;
}

/* Every CPU sleeps. Waits, or skips virtual time; false: the caller does not want to block. */
static bool loop_idle(struct emu *e, bool may_block, int64_t host_limit_ns)
{
    int64_t deadline = clock_next_deadline(e), wait, host_now = host_clock_ns();
    if (e->config.icount && deadline != INT64_MAX) {
        int64_t ahead = deadline - (host_now - e->clock_host_origin_ns);
        if (!e->config.icount_auto_sleep || ahead <= 0) {
            clock_warp_to(e, deadline);
            if (host_now >= e->next_poll_host_ns)
                loop_poll(e, 0);
            return true;
        }
        wait = ahead;
    } else {
        wait = deadline == INT64_MAX ? LOOP_MAX_SLEEP_NS : deadline - emu_now_ns(e);
    }
    if (wait <= 0)
        return true;
    if (!may_block)
        return false;
    wait = EMU_MIN(wait, LOOP_MAX_SLEEP_NS);
    if (host_limit_ns != INT64_MAX)
        wait = EMU_MIN(wait, EMU_MAX(host_limit_ns - host_now, 0));
    loop_poll(e, wait);
    return true;
}

EMU_PRIV int machine_run(struct emu *e, int64_t max_host_ns, int64_t max_insns, bool may_block)
{
    int64_t host_limit_ns = max_host_ns < 0 ? INT64_MAX : host_clock_ns() + max_host_ns;
    uint64_t insns_before = e->insn_total;
    unsigned idle_steps = 0;
    int reason = 0;
    loop_end_naps(e); /* the embedder may have typed */
    if (!e->insns_per_us)
        e->insns_per_us = 200;
    if (!e->poll_interval_ns)
        e->poll_interval_ns = LOOP_POLL_ACTIVE_NS;
    for (;;) {
        int64_t left = max_insns < 0 ? -1 : max_insns - (int64_t)(e->insn_total - insns_before);
        int64_t host_now;
        if (emu_has_requests(e) && loop_handle_requests(e, &reason))
            return reason;
        if (!left)
            return EMU_REASON_INSNS;
        host_now = host_clock_ns();
        if (host_now >= host_limit_ns)
            return EMU_REASON_TIME;
        if (e->run_state != RUN_STATE_RUNNING) {
            if (!may_block) {
                loop_poll(e, 0);
                if (!emu_has_requests(e) && e->run_state != RUN_STATE_RUNNING)
                    return EMU_REASON_PAUSED;
                continue;
            }
            loop_poll(e, host_limit_ns == INT64_MAX ? LOOP_MAX_SLEEP_NS : EMU_MIN(LOOP_MAX_SLEEP_NS, host_limit_ns - host_now));
            continue;
        }
        if (e->napping && clock_next_deadline(e) <= emu_now_ns(e))
            loop_end_naps(e);
        clock_run_timers(e);
        if (host_now >= e->next_poll_host_ns)
            loop_poll(e, 0);
        if (emu_has_requests(e) || e->run_state != RUN_STATE_RUNNING)
            continue;
        if (loop_any_cpu_runs(e)) {
            loop_run_cpus(e, left);
            idle_steps = 0;
        } else if (!loop_idle(e, may_block, host_limit_ns) || (!may_block && ++idle_steps == LOOP_IDLE_STEPS)) {
            return EMU_REASON_IDLE;
        }
    }
}

EMU_PRIV int loop_create(struct emu *e)
{
    timer_init(&e->nap_timer, e, loop_nap_over, e);
    e->wake_read = e->wake_write = HOST_FD_NONE;
    if (host_wake_create(&e->wake_read, &e->wake_write) < 0)
        e->wake_read = e->wake_write = HOST_FD_NONE; /* a host without pipes: requests wait for the next sleep's end */
    return 0;
}

EMU_PRIV void loop_destroy(struct emu *e)
{
    if (e->wake_read != HOST_FD_NONE)
        host_fd_close(e->wake_read);
    if (e->wake_write != HOST_FD_NONE)
        host_fd_close(e->wake_write);
    emu_free(e, e->poll_items);
    emu_free(e, e->poll_watches);
}
#undef LOOP_MAX_SLEEP_NS
#undef LOOP_POLL_ACTIVE_NS
#undef LOOP_POLL_IDLE_NS
#undef LOOP_POLL_SHARE
#undef LOOP_MIN_QUANTUM
#undef LOOP_MAX_QUANTUM
#undef LOOP_SMP_QUANTUM
#undef LOOP_IDLE_STEPS
#undef LOOP_NAP_POLLS
#undef LOOP_NAP_INSNS
#undef LOOP_NAP_NS
#undef LOOP_STEP_HALT_NS
