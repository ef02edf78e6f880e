/* dev/lapic.c - the local APICs of all CPUs, and the bus between them.
 *
 * Models     Intel SDM vol. 3A chapter 10 (xAPIC, x2APIC, TSC deadline), version 14h with six LVT entries, as QEMU's pc shows it.
 * Contract   One device for all CPUs; emu->lapics[n] belongs to emu->cpus[n]. The CPU takes interrupts with apic_acknowledge() after
 *            cpu_set_interrupt(CPU_INT_INTR) said that one waits, and passes its MSRs and CR8 here. Messages of IO-APIC, MSI and IPIs
 *            all go through apic_deliver().
 * Theory     A fixed interrupt sets its IRR bit; the highest one above the processor priority is offered to the CPU, which moves it to ISR;
 *            EOI clears the highest ISR bit. The 8259 pair's INTR is wired to every LINT0 and is passed through while that entry says ExtINT
 *            ("virtual wire"), or straight to the boot processor while its APIC is disabled.
 *            The timer never counts: it remembers when it was started, and the count is a function of now. It runs at 1 GHz before the
 *            divider, as QEMU's does.
 *
 *              write count        deadline_ns reached            one-shot, masked or count 0
 *            idle ----------> armed ----------------> fire -----------------------------------> idle
 *                                ^---- periodic: next multiple ----'
 * Invariants 1. CPU_INT_INTR of a CPU is on exactly while lapic_offers() says so, after every change (lapic_update).
 *            2. timer is armed only if its end will be seen: as interrupt, or as the end of a TSC deadline.
 *            3. ESR shows what was latched by the last write to it.
 * Missing    System management interrupts, focus processor, suppression of EOI broadcasts (not offered), thermal and performance events.
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "dev.h"

enum { /* register number = offset / 16 = x2APIC MSR - 800h */
    LAPIC_ID = 0x02, LAPIC_VERSION = 0x03, LAPIC_TPR = 0x08, LAPIC_APR = 0x09, LAPIC_PPR = 0x0A, LAPIC_EOI = 0x0B, LAPIC_RRD = 0x0C,
    LAPIC_LDR = 0x0D, LAPIC_DFR = 0x0E, LAPIC_SVR = 0x0F, LAPIC_ISR = 0x10, LAPIC_TMR = 0x18, LAPIC_IRR = 0x20, LAPIC_ESR = 0x28,
    LAPIC_ICR = 0x30, LAPIC_ICR_HIGH = 0x31, LAPIC_LVT = 0x32, LAPIC_LVT_LAST = 0x37, LAPIC_INITIAL = 0x38, LAPIC_CURRENT = 0x39,
    LAPIC_DIVIDE = 0x3E, LAPIC_SELF_IPI = 0x3F
};
enum { LAPIC_LVT_TIMER, LAPIC_LVT_THERMAL, LAPIC_LVT_PERF, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1, LAPIC_LVT_ERROR, LAPIC_LVT_COUNT };
enum {
    LAPIC_LVT_REMOTE_IRR = 1 << 14, LAPIC_LVT_LEVEL = 1 << 15, LAPIC_LVT_MASKED = 1 << 16, LAPIC_LVT_TIMER_MODE = 3 << 17, LAPIC_LVT_PERIODIC = 1 << 17, LAPIC_LVT_TSC_DEADLINE = 2 << 17,
    LAPIC_SVR_ENABLE = 1 << 8,
    LAPIC_ICR_LOGICAL = 1 << 11, LAPIC_ICR_ASSERT = 1 << 14, LAPIC_ICR_LEVEL = 1 << 15,
    LAPIC_ESR_SEND_VECTOR = 1 << 5, LAPIC_ESR_RECEIVE_VECTOR = 1 << 6, LAPIC_ESR_REGISTER = 1 << 7,
    LAPIC_BASE_BSP = 1 << 8, LAPIC_BASE_X2 = 1 << 10, LAPIC_BASE_ENABLE = 1 << 11
};
#define LAPIC_MSR_APIC_BASE 0x1Bu
#define LAPIC_MSR_TSC_DEADLINE 0x6E0u
#define LAPIC_MSR_X2APIC 0x800u
#define LAPIC_BASE UINT64_C(0xFEE00000)
#define LAPIC_VERSION_VALUE 0x50014u /* six LVT entries, version 14h */
#define LAPIC_BROADCAST UINT32_C(0xFFFFFFFF)
/* Shorter periods are served at this distance: a guest must not be able to keep the host busy with ticks alone. */
#define LAPIC_MIN_PERIOD_NS 2000

struct lapic {
    struct emu *emu;
    unsigned index;
    uint64_t base; /* IA32_APIC_BASE */
    uint32_t id, tpr, ldr, dfr, svr, esr, esr_latched, icr, icr_high;
    uint32_t lvt[LAPIC_LVT_COUNT];
    uint32_t isr[8], tmr[8], irr[8];
    bool extint;           /* an ExtINT message (IO-APIC, MSI) waits for the acknowledge */
    uint32_t initial, divide;
    int64_t started_ns;
    uint64_t tsc_deadline;
    struct timer timer;
};
struct lapic_set {
    struct device dev;
    struct region registers, messages;
    unsigned count;
    bool lint0;
    struct lapic **all; /* = emu->lapics */
};

static struct lapic *lapic_of(struct cpu *c)
{
    struct chipset *chips = chipset_of(c->emu);
    return chips && chips->lapics && c->index < chips->lapics->count ? chips->lapics->all[c->index] : NULL;
}

static struct cpu *lapic_cpu(const struct lapic *l)
{
    return l->emu->cpus && l->index < l->emu->cpu_count ? l->emu->cpus[l->index] : NULL;
}

static bool lapic_enabled(const struct lapic *l) { return (l->base & LAPIC_BASE_ENABLE) != 0; }
static bool lapic_is_x2(const struct lapic *l) { return (l->base & LAPIC_BASE_X2) != 0; }

/* ---- 256-bit registers ---- */

static bool lapic_bit(const uint32_t *reg, unsigned vector) { return (reg[vector >> 5] >> (vector & 31)) & 1; }
static void lapic_set_bit(uint32_t *reg, unsigned vector) { reg[vector >> 5] |= UINT32_C(1) << (vector & 31); }
static void lapic_clear_bit(uint32_t *reg, unsigned vector) { reg[vector >> 5] &= ~(UINT32_C(1) << (vector & 31)); }

static int lapic_highest(const uint32_t *reg)
{
    int i;
    for (i = 7; i >= 0; i--)
        if (reg[i])
            return i * 32 + 63 - (int)clz64(reg[i]);
    return -1;
}

/* ---- what the CPU is offered ---- */

static uint32_t lapic_ppr(const struct lapic *l)
{
    int service = lapic_highest(l->isr);
    uint32_t in_service = service < 0 ? 0 : (uint32_t)service & 0xF0;
    return (l->tpr & 0xF0) >= in_service ? l->tpr : in_service;
}

static int lapic_vector(const struct lapic *l)
{
    int request;
    if (!lapic_enabled(l) || !(l->svr & LAPIC_SVR_ENABLE))
        return -1;
    request = lapic_highest(l->irr);
    return request >= 0 && ((uint32_t)request & 0xF0) > (lapic_ppr(l) & 0xF0) ? request : -1;
}

static bool lapic_extint_waits(const struct lapic *l)
{
    if (l->extint)
        return true;
    if (!lapic_enabled(l))
        return (l->base & LAPIC_BASE_BSP) && pic_intr(l->emu);
    return !(l->lvt[LAPIC_LVT_LINT0] & LAPIC_LVT_MASKED) && ((l->lvt[LAPIC_LVT_LINT0] >> 8) & 7) == APIC_EXTINT && pic_intr(l->emu);
}

static bool lapic_offers(const struct lapic *l) { return lapic_vector(l) >= 0 || lapic_extint_waits(l); }

static void lapic_update(struct lapic *l)
{
    struct cpu *c = lapic_cpu(l);
    if (c)
        cpu_set_interrupt(c, CPU_INT_INTR, lapic_offers(l));
}

EMU_PRIV int apic_acknowledge(struct emu *e, struct cpu *cpu)
{
    struct lapic *l = lapic_of(cpu);
    int vector;
    if (!l)
        return pic_intr(e) ? pic_acknowledge(e) : -1;
    vector = lapic_vector(l);
    if (vector >= 0) {
        lapic_clear_bit(l->irr, (unsigned)vector);
        lapic_set_bit(l->isr, (unsigned)vector);
    } else if (lapic_extint_waits(l)) {
        l->extint = false;
        vector = pic_acknowledge(e);
    }
    lapic_update(l);
    return vector;
}

/* ---- acceptance ---- */

static void lapic_local(struct lapic *l, unsigned entry);

static void lapic_error(struct lapic *l, uint32_t bit)
{
    l->esr_latched |= bit;
    lapic_local(l, LAPIC_LVT_ERROR);
}

static void lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        if (!(l->esr_latched & LAPIC_ESR_RECEIVE_VECTOR)) /* the error entry itself may hold such a vector */
            lapic_error(l, LAPIC_ESR_RECEIVE_VECTOR);
        return;
    }
    if (level)
        lapic_set_bit(l->tmr, vector);
    else
        lapic_clear_bit(l->tmr, vector);
    lapic_set_bit(l->irr, vector);
    lapic_update(l);
}

/* An event of this APIC's own, through its LVT entry. */
static void lapic_local(struct lapic *l, unsigned entry)
{
    uint32_t lvt = l->lvt[entry];
    struct cpu *c = lapic_cpu(l);
    unsigned mode = entry == LAPIC_LVT_TIMER || entry == LAPIC_LVT_ERROR ? APIC_FIXED : (lvt >> 8) & 7;
    if ((lvt & LAPIC_LVT_MASKED) || !lapic_enabled(l))
        return;
    switch (mode) {
    case APIC_FIXED:
        if ((entry == LAPIC_LVT_LINT0 || entry == LAPIC_LVT_LINT1) && (lvt & LAPIC_LVT_LEVEL)) {
            if (lvt & LAPIC_LVT_REMOTE_IRR)
                return;
            l->lvt[entry] |= LAPIC_LVT_REMOTE_IRR;
            lapic_accept(l, (uint8_t)lvt, true);
        } else {
            lapic_accept(l, (uint8_t)lvt, false);
        }
        break;
    case APIC_NMI:
        if (c)
            cpu_set_interrupt(c, CPU_INT_NMI, true);
        break;
    case APIC_EXTINT: lapic_update(l); break;
    default: break; /* SMI, INIT: nobody wires them so */
    }
}

static void lapic_eoi(struct lapic *l)
{
    int vector = lapic_highest(l->isr);
    unsigned i;
    if (vector < 0)
        return;
    lapic_clear_bit(l->isr, (unsigned)vector);
    if (lapic_bit(l->tmr, (unsigned)vector)) {
        for (i = LAPIC_LVT_LINT0; i <= LAPIC_LVT_LINT1; i++)
            if ((l->lvt[i] & LAPIC_LVT_REMOTE_IRR) && (l->lvt[i] & 0xFF) == (uint32_t)vector) {
                l->lvt[i] &= ~(uint32_t)LAPIC_LVT_REMOTE_IRR;
                if (i == LAPIC_LVT_LINT0 && chipset_of(l->emu)->lapics->lint0)
                    lapic_local(l, i);
            }
        ioapic_eoi(l->emu, (uint8_t)vector);
    }
    lapic_update(l);
}

EMU_PRIV void lapic_set_lint0(struct emu *e, int level)
{
    struct lapic_set *s = chipset_of(e) ? chipset_of(e)->lapics : NULL;
    unsigned i;
    if (!s) { /* a machine without APICs: INTR goes to the first CPU */
        if (e->cpu_count)
            cpu_set_interrupt(e->cpus[0], CPU_INT_INTR, level != 0);
        return;
    }
    for (i = 0; i < s->count; i++) {
        struct lapic *l = s->all[i];
        if (level && !s->lint0)
            lapic_local(l, LAPIC_LVT_LINT0);
        lapic_update(l);
    }
    s->lint0 = level != 0;
}

EMU_PRIV void lapic_nmi(struct emu *e)
{
    struct lapic_set *s = chipset_of(e) ? chipset_of(e)->lapics : NULL;
    unsigned i;
    for (i = 0; s && i < s->count; i++) {
        struct cpu *c = lapic_cpu(s->all[i]);
        if (lapic_enabled(s->all[i]))
            lapic_local(s->all[i], LAPIC_LVT_LINT1);
        else if (c)
            cpu_set_interrupt(c, CPU_INT_NMI, true);
    }
}

/* ---- the bus ---- */

static void lapic_registers_reset(struct lapic *l);

static bool lapic_is_target(const struct lapic *l, uint32_t dest, bool logical)
{
    if (!lapic_enabled(l))
        return false;
    if (dest == LAPIC_BROADCAST)
        return true;
    if (!logical)
        return dest == l->id;
    if (lapic_is_x2(l))
        return (dest >> 16) == (l->ldr >> 16) && (dest & l->ldr & 0xFFFF) != 0;
    if (dest > 0xFF)
        return false;
    if (l->dfr >> 28 == 0xF) /* flat */
        return (dest & (l->ldr >> 24)) != 0;
    return (dest >> 4 == l->ldr >> 28 || dest >> 4 == 0xF) && (dest & (l->ldr >> 24) & 0xF) != 0;
}

static void lapic_receive(struct lapic *l, unsigned delivery, uint8_t vector, bool level)
{
    struct cpu *c = lapic_cpu(l);
    switch (delivery) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (l->svr & LAPIC_SVR_ENABLE)
            lapic_accept(l, vector, level);
        break;
    case APIC_NMI:
        if (c)
            cpu_set_interrupt(c, CPU_INT_NMI, true);
        break;
    case APIC_INIT:
        lapic_registers_reset(l);
        if (c) {
            cpu_set_interrupt(c, CPU_INT_SIPI, false); /* one from before the INIT is void; one after it must survive it */
            cpu_set_interrupt(c, CPU_INT_INIT, true);
        }
        break;
    case APIC_STARTUP:
        if (c)
            cpu_send_sipi(c, vector);
        break;
    case APIC_EXTINT:
        l->extint = true;
        lapic_update(l);
        break;
    default: break; /* SMI: no system management mode here */
    }
}

/* dest: as on the x2APIC bus; 8-bit senders pass LAPIC_BROADCAST for a physical FFh. */
static void lapic_route(struct lapic_set *s, uint32_t dest, bool logical, unsigned delivery, uint8_t vector, bool level)
{
    struct lapic *lowest = NULL;
    unsigned i;
    for (i = 0; i < s->count; i++) {
        struct lapic *l = s->all[i];
        if (!lapic_is_target(l, dest, logical))
            continue;
        if (delivery != APIC_LOWEST)
            lapic_receive(l, delivery, vector, level);
        else if ((l->svr & LAPIC_SVR_ENABLE) && (!lowest || (lapic_ppr(l) & 0xF0) < (lapic_ppr(lowest) & 0xF0)))
            lowest = l;
    }
    if (lowest)
        lapic_receive(lowest, APIC_FIXED, vector, level);
}

EMU_PRIV void apic_deliver(struct emu *e, uint32_t dest, bool logical, unsigned delivery, uint8_t vector, bool level_triggered)
{
    struct lapic_set *s = chipset_of(e) ? chipset_of(e)->lapics : NULL;
    if (s)
        lapic_route(s, !logical && dest == 0xFF ? LAPIC_BROADCAST : dest, logical, delivery, vector, level_triggered);
}

/* SDM vol. 3A §10.11: address bits 19-12 destination, 3 redirection hint, 2 logical; data as in a redirection entry. */
EMU_PRIV void apic_deliver_msi(struct emu *e, uint64_t address, uint32_t data)
{
    bool level = (data & LAPIC_ICR_LEVEL) != 0;
    if (level && !(data & LAPIC_ICR_ASSERT))
        return;
    apic_deliver(e, (uint32_t)(address >> 12) & 0xFF, (address & 4) != 0, (data >> 8) & 7, (uint8_t)data, level);
}

static void lapic_send_ipi(struct lapic *l)
{
    struct lapic_set *s = chipset_of(l->emu)->lapics;
    unsigned delivery = (l->icr >> 8) & 7, i;
    uint8_t vector = (uint8_t)l->icr;
    bool level = (l->icr & LAPIC_ICR_LEVEL) != 0;
    uint32_t dest = lapic_is_x2(l) ? l->icr_high : l->icr_high >> 24;
    if (delivery == APIC_INIT && level && !(l->icr & LAPIC_ICR_ASSERT))
        return; /* INIT level de-assert: arbitration ids, nothing more */
    if ((delivery == APIC_FIXED || delivery == APIC_LOWEST) && vector < 16) {
        lapic_error(l, LAPIC_ESR_SEND_VECTOR);
        return;
    }
    if (delivery == APIC_FIXED || delivery == APIC_LOWEST)
        level = false; /* IPIs are edges (§10.6.1) */
    switch ((l->icr >> 18) & 3) {
    case 0:
        if (!lapic_is_x2(l) && dest == 0xFF && !(l->icr & LAPIC_ICR_LOGICAL))
            dest = LAPIC_BROADCAST;
        lapic_route(s, dest, (l->icr & LAPIC_ICR_LOGICAL) != 0, delivery, vector, level);
        break;
    case 1: lapic_receive(l, delivery, vector, level); break;
    default:
        for (i = 0; i < s->count; i++)
            if (s->all[i] != l || ((l->icr >> 18) & 3) == 2)
                if (lapic_enabled(s->all[i]))
                    lapic_receive(s->all[i], delivery, vector, level);
        break;
    }
}

/* ---- timer ---- */

static unsigned lapic_timer_shift(const struct lapic *l)
{
    unsigned code = (l->divide & 3) | ((l->divide >> 1) & 4);
    return (code + 1) & 7; /* 0: /2 ... 6: /128, 7: /1 */
}

static uint32_t lapic_timer_count(struct lapic *l)
{
    uint64_t ticks;
    if (!l->initial || (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_TSC_DEADLINE))
        return 0;
    ticks = (uint64_t)(emu_now_ns(l->emu) - l->started_ns) >> lapic_timer_shift(l);
    if (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_PERIODIC)
        return l->initial - (uint32_t)(ticks % l->initial);
    return ticks >= l->initial ? 0 : l->initial - (uint32_t)ticks;
}

/* Sets the timer for the next end that shows (invariant 2). */
static void lapic_timer_arm(struct lapic *l)
{
    uint32_t lvt = l->lvt[LAPIC_LVT_TIMER];
    int64_t period, now, next;
    struct cpu *c = lapic_cpu(l);
    timer_cancel(&l->timer);
    if (lvt & LAPIC_LVT_TSC_DEADLINE) {
        if (l->tsc_deadline && c)
            timer_arm(&l->timer, cpu_tsc_to_ns(c, l->tsc_deadline));
        return;
    }
    if (!l->initial || (lvt & LAPIC_LVT_MASKED))
        return;
    period = (int64_t)((uint64_t)l->initial << lapic_timer_shift(l));
    now = emu_now_ns(l->emu);
    next = l->started_ns + period;
    if (lvt & LAPIC_LVT_PERIODIC) {
        int64_t from = period < LAPIC_MIN_PERIOD_NS ? now + LAPIC_MIN_PERIOD_NS : now;
        if (next <= from)
            next = l->started_ns + ((from - l->started_ns) / period + 1) * period;
    } else if (next <= now) {
        return; /* ended before it was unmasked */
    }
    timer_arm(&l->timer, next);
}

static void lapic_timer_fire(void *opaque)
{
    struct lapic *l = opaque;
    struct cpu *c = lapic_cpu(l);
    if (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_TSC_DEADLINE) {
        if (c && cpu_tsc(c) < l->tsc_deadline) { /* rounding: a moment early */
            timer_arm(&l->timer, emu_now_ns(l->emu) + 1);
            return;
        }
        l->tsc_deadline = 0;
        lapic_local(l, LAPIC_LVT_TIMER);
        return;
    }
    lapic_local(l, LAPIC_LVT_TIMER);
    if (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_PERIODIC)
        lapic_timer_arm(l);
}

/* Before a register that the timer depends on changes: an end that has been reached but not been noticed yet is an interrupt all the same
 * (§10.5.4: it is in IRR when the count is 0). */
static void lapic_timer_catch_up(struct lapic *l)
{
    if (timer_armed(&l->timer) && l->timer.deadline_ns <= emu_now_ns(l->emu)) {
        timer_cancel(&l->timer);
        lapic_timer_fire(l);
    }
}

EMU_PRIV void lapic_tsc_changed(struct cpu *c)
{
    struct lapic *l = lapic_of(c);
    if (l && (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_TSC_DEADLINE))
        lapic_timer_arm(l);
}

/* ---- registers ---- */

static uint32_t lapic_ldr(const struct lapic *l)
{
    return lapic_is_x2(l) ? ((l->id >> 4) << 16) | (UINT32_C(1) << (l->id & 15)) : l->ldr;
}

static uint32_t lapic_read(struct lapic *l, unsigned reg)
{
    switch (reg) {
    case LAPIC_ID: return lapic_is_x2(l) ? l->id : l->id << 24;
    case LAPIC_VERSION: return LAPIC_VERSION_VALUE;
    case LAPIC_TPR: return l->tpr;
    case LAPIC_APR:
    case LAPIC_EOI:
    case LAPIC_RRD: return 0;
    case LAPIC_PPR: return lapic_ppr(l);
    case LAPIC_LDR: return l->ldr;
    case LAPIC_DFR: return l->dfr;
    case LAPIC_SVR: return l->svr;
    case LAPIC_ESR: return l->esr;
    case LAPIC_ICR: return l->icr;
    case LAPIC_ICR_HIGH: return l->icr_high;
    case LAPIC_INITIAL: return l->initial;
    case LAPIC_CURRENT: return lapic_timer_count(l);
    case LAPIC_DIVIDE: return l->divide;
    default:
        if (reg >= LAPIC_ISR && reg < LAPIC_ISR + 8)
            return l->isr[reg - LAPIC_ISR];
        if (reg >= LAPIC_TMR && reg < LAPIC_TMR + 8)
            return l->tmr[reg - LAPIC_TMR];
        if (reg >= LAPIC_IRR && reg < LAPIC_IRR + 8)
            return l->irr[reg - LAPIC_IRR];
        if (reg >= LAPIC_LVT && reg <= LAPIC_LVT_LAST)
            return l->lvt[reg - LAPIC_LVT];
        lapic_error(l, LAPIC_ESR_REGISTER);
        return 0;
    }
}

static void lapic_write_lvt(struct lapic *l, unsigned entry, uint32_t value)
{
    static const uint32_t writable[LAPIC_LVT_COUNT] = { 0x700FF, 0x107FF, 0x107FF, 0x1A7FF, 0x1A7FF, 0x100FF };
    uint32_t was;
    if (entry == LAPIC_LVT_TIMER)
        lapic_timer_catch_up(l);
    was = l->lvt[entry];
    value = (value & writable[entry]) | (was & LAPIC_LVT_REMOTE_IRR & (value & LAPIC_LVT_LEVEL ? ~UINT32_C(0) : 0));
    if (!(l->svr & LAPIC_SVR_ENABLE))
        value |= LAPIC_LVT_MASKED;
    l->lvt[entry] = value;
    if (entry == LAPIC_LVT_TIMER) {
        if ((was ^ value) & LAPIC_LVT_TSC_DEADLINE) { /* §10.5.4.1: changing to or from this mode disarms */
            l->initial = 0;
            l->tsc_deadline = 0;
        }
        lapic_timer_arm(l);
    } else if (entry == LAPIC_LVT_LINT0) {
        if (chipset_of(l->emu)->lapics->lint0 && (value & LAPIC_LVT_LEVEL) && ((value >> 8) & 7) == APIC_FIXED)
            lapic_local(l, LAPIC_LVT_LINT0);
        lapic_update(l);
    }
}

static void lapic_write_svr(struct lapic *l, uint32_t value)
{
    unsigned i;
    lapic_timer_catch_up(l);
    l->svr = value & 0x3FF; /* focus bit kept; EOI broadcast suppression is not offered */
    if (!(value & LAPIC_SVR_ENABLE))
        for (i = 0; i < LAPIC_LVT_COUNT; i++)
            l->lvt[i] |= LAPIC_LVT_MASKED; /* §10.4.7.2 */
    lapic_timer_arm(l);
    lapic_update(l);
}

static void lapic_write_divide(struct lapic *l, uint32_t value)
{
    uint64_t ticks;
    lapic_timer_catch_up(l);
    ticks = (uint64_t)(emu_now_ns(l->emu) - l->started_ns) >> lapic_timer_shift(l);
    l->divide = value & 0xB;
    if (l->initial && !(l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_TSC_DEADLINE)) { /* the count goes on from where it is */
        if (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_PERIODIC)
            ticks %= l->initial;
        else if (ticks > l->initial)
            ticks = l->initial;
        l->started_ns = emu_now_ns(l->emu) - (int64_t)(ticks << lapic_timer_shift(l));
    }
    lapic_timer_arm(l);
}

static void lapic_write(struct lapic *l, unsigned reg, uint32_t value)
{
    switch (reg) {
    case LAPIC_ID: l->id = value >> 24; break;
    case LAPIC_TPR:
        l->tpr = value & 0xFF;
        lapic_update(l);
        break;
    case LAPIC_EOI: lapic_eoi(l); break;
    case LAPIC_LDR: l->ldr = value & 0xFF000000u; break;
    case LAPIC_DFR: l->dfr = value | 0x0FFFFFFFu; break;
    case LAPIC_SVR: lapic_write_svr(l, value); break;
    case LAPIC_ESR:
        l->esr = l->esr_latched;
        l->esr_latched = 0;
        break;
    case LAPIC_ICR:
        l->icr = value & 0x000CCFFFu; /* delivery status always idle */
        lapic_send_ipi(l);
        break;
    case LAPIC_ICR_HIGH: l->icr_high = value & 0xFF000000u; break;
    case LAPIC_INITIAL:
        if (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_TSC_DEADLINE)
            break;
        lapic_timer_catch_up(l);
        l->initial = value;
        l->started_ns = emu_now_ns(l->emu);
        lapic_timer_arm(l);
        break;
    case LAPIC_DIVIDE: lapic_write_divide(l, value); break;
    case LAPIC_VERSION: /* read-only registers take no notice */
    case LAPIC_APR:
    case LAPIC_PPR:
    case LAPIC_RRD:
    case LAPIC_CURRENT: break;
    default:
        if (reg >= LAPIC_LVT && reg <= LAPIC_LVT_LAST)
            lapic_write_lvt(l, reg - LAPIC_LVT, value);
        else if (reg < LAPIC_ISR || reg >= LAPIC_IRR + 8)
            lapic_error(l, LAPIC_ESR_REGISTER);
        break;
    }
}

/* ---- memory-mapped access: the registers of the CPU that asks ---- */

static struct lapic *lapic_current(struct lapic_set *s)
{
    unsigned i = s->dev.emu->current_cpu ? s->dev.emu->current_cpu->index : 0;
    struct lapic *l = s->all[i < s->count ? i : 0];
    return lapic_enabled(l) && !lapic_is_x2(l) ? l : NULL;
}

static uint64_t lapic_mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    struct lapic *l = lapic_current(opaque);
    (void)size;
    if (!l)
        return UINT64_MAX;
    return (offset & 15) ? 0 : lapic_read(l, (unsigned)(offset >> 4) & 0xFF);
}

static void lapic_mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct lapic *l = lapic_current(opaque);
    (void)size;
    if (l && !(offset & 15))
        lapic_write(l, (unsigned)(offset >> 4) & 0xFF, (uint32_t)value);
}

static void lapic_message_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct lapic_set *s = opaque;
    (void)size;
    apic_deliver_msi(s->dev.emu, LAPIC_BASE + offset, (uint32_t)value);
}

static const struct region_ops lapic_ops = { lapic_mmio_read, lapic_mmio_write, 4, 4, true };
static const struct region_ops lapic_message_ops = { NULL, lapic_message_write, 4, 4, true };

/* ---- MSRs and CR8 ---- */

static void lapic_publish_base(struct lapic *l)
{
    struct cpu *c = lapic_cpu(l);
    struct lapic_set *s = chipset_of(l->emu)->lapics;
    if (c)
        c->apic_base = l->base;
    if (l->index == 0) /* one window for all, moved by the boot processor */
        region_set(l->emu, &l->emu->memory, &s->registers, l->base & ~UINT64_C(0xFFF), true);
}

/* The mode changes that exist: SDM vol. 3A table 10-5. */
static bool lapic_write_base(struct lapic *l, struct cpu *c, uint64_t value)
{
    uint64_t changeable = LAPIC_BASE_ENABLE | LAPIC_BASE_X2 | (((UINT64_C(1) << (c->phys_bits ? c->phys_bits : 36)) - 1) & ~UINT64_C(0xFFF));
    bool enable = (value & LAPIC_BASE_ENABLE) != 0, x2 = (value & LAPIC_BASE_X2) != 0;
    if ((value & ~changeable & ~(uint64_t)LAPIC_BASE_BSP) || (x2 && !cpu_has(c, CPU_X2APIC)))
        return false;
    if ((x2 && !enable) || (x2 && !lapic_enabled(l)) || (lapic_is_x2(l) && enable && !x2))
        return false;
    if (lapic_enabled(l) && !enable)
        lapic_registers_reset(l);
    l->base = (value & changeable) | (l->base & LAPIC_BASE_BSP);
    if (x2)
        l->ldr = lapic_ldr(l);
    lapic_publish_base(l);
    lapic_update(l);
    return true;
}

static bool lapic_x2_readable(unsigned reg)
{
    return reg == LAPIC_ID || reg == LAPIC_VERSION || reg == LAPIC_TPR || reg == LAPIC_PPR || reg == LAPIC_LDR || reg == LAPIC_SVR ||
           (reg >= LAPIC_ISR && reg <= LAPIC_ESR) || reg == LAPIC_ICR || (reg >= LAPIC_LVT && reg <= LAPIC_CURRENT) || reg == LAPIC_DIVIDE;
}

EMU_PRIV uint64_t lapic_msr_read(struct cpu *cpu, uint32_t msr, bool *fault)
{
    struct lapic *l = lapic_of(cpu);
    unsigned reg = msr - LAPIC_MSR_X2APIC;
    *fault = false;
    if (l && msr == LAPIC_MSR_APIC_BASE)
        return l->base;
    if (l && msr == LAPIC_MSR_TSC_DEADLINE)
        return l->tsc_deadline;
    if (!l || !lapic_is_x2(l) || reg > 0xFF || !lapic_x2_readable(reg)) {
        *fault = true;
        return 0;
    }
    return lapic_read(l, reg) | (reg == LAPIC_ICR ? (uint64_t)l->icr_high << 32 : 0);
}

static bool lapic_x2_write(struct lapic *l, unsigned reg, uint64_t value)
{
    static const uint32_t lvt_reserved[LAPIC_LVT_COUNT] = { ~0x710FFu, ~0x117FFu, ~0x117FFu, ~0x1F7FFu, ~0x1F7FFu, ~0x110FFu };
    if (reg == LAPIC_ICR) {
        if (value & 0xFFF32000u)
            return false;
        l->icr_high = (uint32_t)(value >> 32);
        lapic_write(l, LAPIC_ICR, (uint32_t)value);
        return true;
    }
    if (value >> 32)
        return false;
    switch (reg) {
    case LAPIC_EOI:
    case LAPIC_ESR:
        if (value)
            return false;
        break;
    case LAPIC_TPR:
        if (value > 0xFF)
            return false;
        break;
    case LAPIC_SELF_IPI:
        if (value > 0xFF)
            return false;
        lapic_receive(l, APIC_FIXED, (uint8_t)value, false);
        return true;
    case LAPIC_SVR:
    case LAPIC_INITIAL:
    case LAPIC_DIVIDE: break;
    default:
        if (reg < LAPIC_LVT || reg > LAPIC_LVT_LAST || (value & lvt_reserved[reg - LAPIC_LVT]))
            return false;
        break;
    }
    lapic_write(l, reg, (uint32_t)value);
    return true;
}

EMU_PRIV void lapic_msr_write(struct cpu *cpu, uint32_t msr, uint64_t value, bool *fault)
{
    struct lapic *l = lapic_of(cpu);
    unsigned reg = msr - LAPIC_MSR_X2APIC;
    *fault = true;
    if (!l)
        return;
    if (msr == LAPIC_MSR_APIC_BASE) {
        *fault = !lapic_write_base(l, cpu, value);
    } else if (msr == LAPIC_MSR_TSC_DEADLINE) {
        *fault = false;
        if (l->lvt[LAPIC_LVT_TIMER] & LAPIC_LVT_TSC_DEADLINE) {
            lapic_timer_catch_up(l);
            l->tsc_deadline = value;
            lapic_timer_arm(l);
        }
    } else if (lapic_is_x2(l) && reg <= 0xFF) {
        *fault = !lapic_x2_write(l, reg, value);
    }
}

EMU_PRIV uint64_t lapic_get_tpr(struct cpu *cpu)
{
    struct lapic *l = lapic_of(cpu);
    return l ? l->tpr >> 4 : 0;
}

EMU_PRIV void lapic_set_tpr(struct cpu *cpu, uint64_t value)
{
    struct lapic *l = lapic_of(cpu);
    if (!l)
        return;
    l->tpr = (uint32_t)(value & 15) << 4;
    lapic_update(l);
}

/* ---- the device ---- */

/* SDM vol. 3A §10.4.7.1: state after INIT. The boot processor's LINT0 begins as ExtINT, which firmware would set first thing. */
static void lapic_registers_reset(struct lapic *l)
{
    unsigned i;
    timer_cancel(&l->timer);
    l->tpr = l->esr = l->esr_latched = l->icr = l->icr_high = 0;
    l->ldr = lapic_is_x2(l) ? lapic_ldr(l) : 0;
    l->dfr = LAPIC_BROADCAST;
    l->svr = 0xFF;
    l->initial = l->divide = 0;
    l->tsc_deadline = 0;
    l->extint = false;
    memset(l->isr, 0, sizeof l->isr);
    memset(l->tmr, 0, sizeof l->tmr);
    memset(l->irr, 0, sizeof l->irr);
    for (i = 0; i < LAPIC_LVT_COUNT; i++)
        l->lvt[i] = LAPIC_LVT_MASKED;
    if (l->base & LAPIC_BASE_BSP)
        l->lvt[LAPIC_LVT_LINT0] = APIC_EXTINT << 8;
    lapic_update(l);
}

static void lapic_power_on(struct lapic *l)
{
    l->id = l->index;
    l->base = LAPIC_BASE | LAPIC_BASE_ENABLE | (l->index == 0 ? LAPIC_BASE_BSP : 0);
    lapic_registers_reset(l);
    lapic_publish_base(l);
}

static void lapic_destroy(struct device *dev)
{
    struct lapic_set *s = EMU_CONTAINER(dev, struct lapic_set, dev);
    struct emu *e = dev->emu;
    unsigned i;
    region_remove(e, &e->memory, &s->registers);
    region_remove(e, &e->memory, &s->messages);
    for (i = 0; i < s->count; i++) {
        timer_cancel(&s->all[i]->timer);
        emu_free(e, s->all[i]);
    }
    s->count = 0;
    emu_free(e, s->all);
    s->all = NULL;
    e->lapics = NULL;
    if (chipset_of(e))
        chipset_of(e)->lapics = NULL;
}

static int lapic_create(struct device *dev, struct options *opts, struct err *err)
{
    struct lapic_set *s = EMU_CONTAINER(dev, struct lapic_set, dev);
    struct emu *e = dev->emu;
    unsigned i, count = e->config.cpus ? e->config.cpus : 1;
    (void)opts;
    s->all = chipset_get(e) ? emu_alloc(e, count * sizeof *s->all) : NULL;
    if (!s->all)
        return err_set(err, EMU_ENOMEM, "out of memory");
    for (i = 0; i < count; i++) {
        s->all[i] = emu_alloc(e, sizeof *s->all[i]);
        if (!s->all[i]) {
            lapic_destroy(dev);
            return err_set(err, EMU_ENOMEM, "out of memory");
        }
        s->count = i + 1;
        s->all[i]->emu = e;
        s->all[i]->index = i;
        timer_init(&s->all[i]->timer, e, lapic_timer_fire, s->all[i]);
    }
    chipset_of(e)->lapics = s;
    e->lapics = s->all;
    region_init_io(&s->messages, "apic-messages", &lapic_message_ops, s, MIB);
    region_add(e, &e->memory, &s->messages, LAPIC_BASE, MAP_PRIO_CHIP);
    region_init_io(&s->registers, "apic", &lapic_ops, s, 4096);
    region_add(e, &e->memory, &s->registers, LAPIC_BASE, MAP_PRIO_CHIP + 1);
    for (i = 0; i < count; i++)
        lapic_power_on(s->all[i]);
    return 0;
}

static void lapic_reset(struct device *dev)
{
    struct lapic_set *s = EMU_CONTAINER(dev, struct lapic_set, dev);
    unsigned i;
    for (i = 0; i < s->count; i++)
        lapic_power_on(s->all[i]);
}

static void lapic_print_bits(struct buf *out, const char *name, const uint32_t *reg)
{
    unsigned v, n = 0;
    buf_printf(out, "%s\t", name);
    for (v = 0; v < 256; v++)
        if (lapic_bit(reg, v))
            buf_printf(out, "%s%u", n++ ? " " : "", v);
    buf_printf(out, "%s\n", n ? "" : "(none)");
}

EMU_PRIV void lapic_print_info(struct emu *e, unsigned cpu, struct buf *out)
{
    static const char *const names[LAPIC_LVT_COUNT] = { "LVTT", "LVTTHMR", "LVTPC", "LVT0", "LVT1", "LVTERR" };
    struct lapic_set *s = chipset_of(e) ? chipset_of(e)->lapics : NULL;
    struct lapic *l;
    unsigned i;
    if (!s || cpu >= s->count) {
        buf_printf(out, "no local APIC %u\n", cpu);
        return;
    }
    l = s->all[cpu];
    buf_printf(out, "local APIC of CPU %u: id %u, %s, base 0x%" PRIx64 "\n", cpu, l->id,
               !lapic_enabled(l) ? "disabled" : lapic_is_x2(l) ? "x2APIC" : "xAPIC", l->base & ~UINT64_C(0xFFF));
    for (i = 0; i < LAPIC_LVT_COUNT; i++)
        buf_printf(out, "%s\t0x%08x %s%s\n", names[i], l->lvt[i], (l->lvt[i] & LAPIC_LVT_MASKED) ? "masked" : "open",
                   i != LAPIC_LVT_TIMER ? "" : (l->lvt[i] & LAPIC_LVT_TSC_DEADLINE) ? ", TSC deadline" : (l->lvt[i] & LAPIC_LVT_PERIODIC) ? ", periodic" : ", one-shot");
    buf_printf(out, "Timer\tDCR=0x%x initial=%u current=%u deadline=%" PRIu64 "\n", l->divide, l->initial, lapic_timer_count(l), l->tsc_deadline);
    buf_printf(out, "SPIV\t0x%03x APIC %s\nICR\t0x%08x %08x\nESR\t0x%02x\n", l->svr, (l->svr & LAPIC_SVR_ENABLE) ? "enabled" : "disabled",
               l->icr_high, l->icr, l->esr);
    lapic_print_bits(out, "ISR", l->isr);
    lapic_print_bits(out, "IRR", l->irr);
    buf_printf(out, "TPR\t0x%02x PPR 0x%02x LDR 0x%08x DFR 0x%08x\n", l->tpr, lapic_ppr(l), l->ldr, l->dfr);
}

EMU_PRIV const struct device_class lapic_class = {
    .name = "apic", .bus = "system", .help = "local APICs of all CPUs", .instance_size = sizeof(struct lapic_set),
    .create = lapic_create, .reset = lapic_reset, .destroy = lapic_destroy,
};
#undef LAPIC_MSR_APIC_BASE
#undef LAPIC_MSR_TSC_DEADLINE
#undef LAPIC_MSR_X2APIC
#undef LAPIC_BASE
#undef LAPIC_VERSION_VALUE
#undef LAPIC_BROADCAST
#undef LAPIC_MIN_PERIOD_NS
