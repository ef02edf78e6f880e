/* dev/hpet.c - high precision event timers.
 *
 * Models     IA-PC HPET specification 1.0a: three timers, 64-bit counter, period 10 ns, legacy replacement; values and the one allowed route
 *            (IO-APIC input 2) as QEMU's pc shows them.
 * Contract   Mapped at FED00000h. The PIT's IRQ 0 and the RTC's IRQ 8 come through hpet_pass_legacy(), in a machine without HPET, too.
 * Theory     The counter is a function of virtual time: base_count at base_ns, 100 ticks a microsecond. A timer is armed for the moment at which the
 *            counter reaches its comparator. A comparator written with a value just passed fires at once: a guest that lost a race
 *            against the counter is not left to wait for the wrap. Periodic: the comparator moves on by the period, past the present.
 * Invariants 1. A timer's event is armed only while the HPET is enabled and the timer's interrupt is.
 *            2. In legacy replacement mode lines 0 and 8 are driven here, else by what hpet_pass_legacy() was last told.
 *            3. isr bits are set by level-triggered timers only; the line of such a timer is its isr bit.
 * Missing    FSB (message) delivery: its capability bit reads 0. Edges closer than HPET_MIN_EDGE_NS are merged.
 */
#include "../machine.h"
#include "dev.h"

#define HPET_BASE UINT64_C(0xFED00000)
#define HPET_TICK_NS 10
#define HPET_CAPABILITIES UINT64_C(0x009896808086A201) /* period in fs; vendor, legacy capable, 64-bit, 3 timers, revision 1 */
#define HPET_ROUTES UINT64_C(0x00000004)               /* IO-APIC input 2 */
#define HPET_MIN_EDGE_NS 2000
enum {
    HPET_TIMERS = 3,
    HPET_REG_CAPABILITIES = 0x00, HPET_REG_CONFIG = 0x10, HPET_REG_STATUS = 0x20, HPET_REG_COUNTER = 0xF0, HPET_REG_TIMER0 = 0x100,
    HPET_ENABLE = 1, HPET_LEGACY = 2,
    HPET_TN_LEVEL = 1 << 1, HPET_TN_INT = 1 << 2, HPET_TN_PERIODIC = 1 << 3, HPET_TN_PERIODIC_CAP = 1 << 4, HPET_TN_SIZE_CAP = 1 << 5,
    HPET_TN_SET_VALUE = 1 << 6, HPET_TN_32BIT = 1 << 8, HPET_TN_ROUTE_SHIFT = 9, HPET_TN_WRITABLE = 0x3F4E
};

struct hpet;
struct hpet_timer {
    struct hpet *hpet;
    unsigned index;
    uint32_t config;
    uint64_t comparator, period;
    struct timer timer;
};
struct hpet {
    struct device dev;
    struct region region;
    uint64_t config, isr;
    uint64_t base_count; /* the counter at base_ns; while halted: the counter */
    int64_t base_ns;
    struct hpet_timer timer[HPET_TIMERS];
    bool legacy_level[2]; /* what PIT and RTC drive */
};

static void hpet_drive(struct emu *e, int line, int level)
{
    struct irq irq = board_gsi(e, line);
    irq_set(&irq, level);
}

EMU_PRIV void hpet_pass_legacy(struct emu *e, int line, int level)
{
    struct hpet *s = chipset_of(e) ? chipset_of(e)->hpet : NULL;
    if (s)
        s->legacy_level[line != 0] = level != 0;
    if (!s || !(s->config & HPET_LEGACY))
        hpet_drive(e, line, level);
}

static uint64_t hpet_counter(const struct hpet *s)
{
    if (!(s->config & HPET_ENABLE))
        return s->base_count;
    return s->base_count + (uint64_t)(emu_now_ns(s->dev.emu) - s->base_ns) / HPET_TICK_NS;
}

/* ---- interrupts ---- */

static int hpet_line(const struct hpet_timer *t)
{
    if ((t->hpet->config & HPET_LEGACY) && t->index < 2)
        return t->index ? 8 : 0;
    return (int)(t->config >> HPET_TN_ROUTE_SHIFT) & 31;
}

static void hpet_set_line(struct hpet_timer *t, int level)
{
    int line = hpet_line(t);
    bool legacy = (t->hpet->config & HPET_LEGACY) && t->index < 2;
    if (line < 24 && (legacy || ((HPET_ROUTES >> line) & 1)))
        hpet_drive(t->hpet->dev.emu, line, level);
}

static void hpet_interrupt(struct hpet_timer *t)
{
    if (t->config & HPET_TN_LEVEL) {
        t->hpet->isr |= UINT64_C(1) << t->index;
        hpet_set_line(t, 1);
    } else {
        hpet_set_line(t, 0);
        hpet_set_line(t, 1);
        hpet_set_line(t, 0);
    }
}

/* ---- timers ---- */

static uint64_t hpet_mask(const struct hpet_timer *t) { return t->config & HPET_TN_32BIT ? 0xFFFFFFFFu : UINT64_MAX; }

/* Periodic timers: moves the comparator past `counter`. It goes on while the interrupt is off, too (§2.3.9.2.2). */
static void hpet_advance(struct hpet_timer *t, uint64_t counter)
{
    uint64_t late = (counter - t->comparator) & hpet_mask(t);
    if (t->period && late <= hpet_mask(t) / 2)
        t->comparator = (t->comparator + (late / t->period + 1) * t->period) & hpet_mask(t);
}

/* Ticks until the comparator is reached. One just passed counts as reached if passed_fires, else it is a whole wrap away. */
static uint64_t hpet_ticks_left(const struct hpet_timer *t, uint64_t counter, bool passed_fires)
{
    uint64_t left = (t->comparator - counter) & hpet_mask(t);
    if (passed_fires)
        return left > hpet_mask(t) / 2 ? 0 : left;
    return left || hpet_mask(t) == UINT64_MAX ? left - (left == 0) : UINT64_C(1) << 32;
}

static void hpet_arm_in(struct hpet_timer *t, uint64_t left)
{
    if (left < (uint64_t)INT64_MAX / HPET_TICK_NS / 2) /* else: not within centuries */
        timer_arm(&t->timer, emu_now_ns(t->hpet->dev.emu) + EMU_MAX((int64_t)left * HPET_TICK_NS, 1));
}

static void hpet_arm(struct hpet_timer *t, bool passed_fires)
{
    const struct hpet *s = t->hpet;
    timer_cancel(&t->timer);
    if (!(s->config & HPET_ENABLE) || !(t->config & HPET_TN_INT))
        return;
    if (!passed_fires && (t->config & HPET_TN_PERIODIC))
        hpet_advance(t, hpet_counter(s));
    hpet_arm_in(t, hpet_ticks_left(t, hpet_counter(s), passed_fires));
}

static void hpet_timer_fire(void *opaque)
{
    struct hpet_timer *t = opaque;
    hpet_interrupt(t);
    if ((t->config & HPET_TN_PERIODIC) && t->period) { /* the comparator is not ahead of the counter, however long the period: no half range here */
        bool dense = t->period < HPET_MIN_EDGE_NS / HPET_TICK_NS;
        uint64_t late = (hpet_counter(t->hpet) + (dense ? HPET_MIN_EDGE_NS / HPET_TICK_NS : 0) - t->comparator) & hpet_mask(t);
        t->comparator = (t->comparator + (late / t->period + 1) * t->period) & hpet_mask(t);
        hpet_arm_in(t, (t->comparator - hpet_counter(t->hpet)) & hpet_mask(t));
    } else if (t->config & HPET_TN_32BIT) {
        hpet_arm(t, false); /* a one-shot timer matches again when 32 bits have wrapped */
    }
}

static void hpet_rearm_all(struct hpet *s)
{
    unsigned i;
    for (i = 0; i < HPET_TIMERS; i++)
        hpet_arm(&s->timer[i], false);
}

/* ---- registers, as 64-bit words; mask: the bits that are written ---- */

static uint64_t hpet_read_word(struct hpet *s, unsigned reg)
{
    const struct hpet_timer *t;
    switch (reg) {
    case HPET_REG_CAPABILITIES: return HPET_CAPABILITIES;
    case HPET_REG_CONFIG: return s->config;
    case HPET_REG_STATUS: return s->isr;
    case HPET_REG_COUNTER: return hpet_counter(s);
    default: break;
    }
    if (reg < HPET_REG_TIMER0 || reg >= HPET_REG_TIMER0 + 0x20 * HPET_TIMERS)
        return 0;
    t = &s->timer[(reg - HPET_REG_TIMER0) / 0x20];
    switch (reg & 0x18) {
    case 0x00: return t->config | HPET_ROUTES << 32;
    case 0x08: return t->comparator;
    default: return 0;
    }
}

static void hpet_write_config(struct hpet *s, uint64_t value)
{
    uint64_t was = s->config;
    struct emu *e = s->dev.emu;
    unsigned i;
    value &= HPET_ENABLE | HPET_LEGACY;
    if ((was ^ value) & HPET_ENABLE) {
        s->base_count = hpet_counter(s);
        s->base_ns = emu_now_ns(e);
    }
    if ((was ^ value) & HPET_LEGACY) {
        for (i = 0; i < HPET_TIMERS; i++)
            hpet_set_line(&s->timer[i], 0);
        s->config = value;
        hpet_drive(e, 0, !(value & HPET_LEGACY) && s->legacy_level[0]);
        hpet_drive(e, 8, !(value & HPET_LEGACY) && s->legacy_level[1]);
    }
    s->config = value;
    for (i = 0; i < HPET_TIMERS; i++) {
        if ((s->isr >> i) & 1)
            hpet_set_line(&s->timer[i], (s->timer[i].config & HPET_TN_INT) != 0);
        if ((was ^ value) & HPET_ENABLE)
            hpet_arm(&s->timer[i], false);
    }
}

static void hpet_write_status(struct hpet *s, uint64_t value)
{
    unsigned i;
    for (i = 0; i < HPET_TIMERS; i++)
        if ((value & s->isr) >> i & 1) {
            s->isr &= ~(UINT64_C(1) << i);
            hpet_set_line(&s->timer[i], 0);
        }
}

static void hpet_write_timer_config(struct hpet_timer *t, uint32_t value)
{
    uint32_t was = t->config;
    if (t->hpet->isr >> t->index & 1 && (was ^ value) & (HPET_TN_LEVEL | 31u << HPET_TN_ROUTE_SHIFT)) { /* its line moves or goes */
        t->hpet->isr &= ~(UINT64_C(1) << t->index);
        hpet_set_line(t, 0);
    }
    t->config = (was & ~(uint32_t)HPET_TN_WRITABLE) | (value & HPET_TN_WRITABLE);
    if (t->hpet->isr >> t->index & 1) /* status stays, but causes no interrupt while that is off (2.3.8) */
        hpet_set_line(t, (t->config & HPET_TN_INT) != 0);
    if (t->config & HPET_TN_32BIT) {
        t->comparator = (uint32_t)t->comparator;
        t->period = (uint32_t)t->period;
    }
    if ((was ^ t->config) & (HPET_TN_INT | HPET_TN_32BIT))
        hpet_arm(t, false);
}

static void hpet_write_comparator(struct hpet_timer *t, uint64_t value, uint64_t mask)
{
    bool periodic = (t->config & HPET_TN_PERIODIC) != 0;
    if (t->config & HPET_TN_32BIT) {
        value = (uint32_t)value;
        mask = mask == UINT64_MAX ? mask : mask & 0xFFFFFFFFu;
        if (!mask)
            return;
    }
    if (!periodic || (t->config & HPET_TN_SET_VALUE))
        t->comparator = (t->comparator & ~mask) | (value & mask);
    if (periodic)
        t->period = (t->period & ~mask) | (value & mask);
    t->config &= ~(uint32_t)HPET_TN_SET_VALUE;
    hpet_arm(t, true);
}

static void hpet_write_word(struct hpet *s, unsigned reg, uint64_t value, uint64_t mask)
{
    struct hpet_timer *t;
    uint64_t merged = (hpet_read_word(s, reg) & ~mask) | (value & mask);
    switch (reg) {
    case HPET_REG_CAPABILITIES: return;
    case HPET_REG_CONFIG: hpet_write_config(s, merged); return;
    case HPET_REG_STATUS: hpet_write_status(s, value & mask); return;
    case HPET_REG_COUNTER:
        s->base_count = merged;
        s->base_ns = emu_now_ns(s->dev.emu);
        hpet_rearm_all(s);
        return;
    default: break;
    }
    if (reg < HPET_REG_TIMER0 || reg >= HPET_REG_TIMER0 + 0x20 * HPET_TIMERS)
        return;
    t = &s->timer[(reg - HPET_REG_TIMER0) / 0x20];
    switch (reg & 0x18) {
    case 0x00:
        if (mask & 0xFFFFFFFFu)
            hpet_write_timer_config(t, (uint32_t)merged);
        break;
    case 0x08: hpet_write_comparator(t, value, mask); break;
    default: break;
    }
}

static uint64_t hpet_read(void *opaque, uint64_t offset, unsigned size)
{
    struct hpet *s = opaque;
    uint64_t word = hpet_read_word(s, (unsigned)offset & ~7u);
    if (size == 8 && (offset & 7))
        return hpet_read(s, offset, 4) | hpet_read(s, offset + 4, 4) << 32;
    return size == 8 ? word : (uint32_t)(word >> 8 * (offset & 4));
}

static void hpet_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct hpet *s = opaque;
    if (size == 8 && !(offset & 7)) {
        hpet_write_word(s, (unsigned)offset, value, UINT64_MAX);
        return;
    }
    hpet_write_word(s, (unsigned)offset & ~7u, (value & 0xFFFFFFFFu) << 8 * (offset & 4), UINT64_C(0xFFFFFFFF) << 8 * (offset & 4));
    if (size == 8)
        hpet_write(s, offset + 4, value >> 32, 4);
}

static const struct region_ops hpet_ops = { hpet_read, hpet_write, 4, 8, false };

/* ---- the device ---- */

static int hpet_create(struct device *dev, struct options *opts, struct err *err)
{
    struct hpet *s = EMU_CONTAINER(dev, struct hpet, dev);
    unsigned i;
    (void)opts;
    if (!chipset_get(dev->emu))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(dev->emu)->hpet = s;
    for (i = 0; i < HPET_TIMERS; i++) {
        s->timer[i].hpet = s;
        s->timer[i].index = i;
        timer_init(&s->timer[i].timer, dev->emu, hpet_timer_fire, &s->timer[i]);
    }
    region_init_io(&s->region, "hpet", &hpet_ops, s, 1024);
    return region_add(dev->emu, &dev->emu->memory, &s->region, HPET_BASE, MAP_PRIO_CHIP);
}

static void hpet_reset(struct device *dev)
{
    struct hpet *s = EMU_CONTAINER(dev, struct hpet, dev);
    unsigned i;
    hpet_write_status(s, UINT64_MAX);
    hpet_write_config(s, 0);
    s->base_count = 0;
    for (i = 0; i < HPET_TIMERS; i++) {
        timer_cancel(&s->timer[i].timer);
        s->timer[i].config = HPET_TN_PERIODIC_CAP | HPET_TN_SIZE_CAP;
        s->timer[i].comparator = UINT64_MAX;
        s->timer[i].period = 0;
    }
}

static void hpet_destroy(struct device *dev)
{
    struct hpet *s = EMU_CONTAINER(dev, struct hpet, dev);
    unsigned i;
    for (i = 0; i < HPET_TIMERS; i++)
        if (s->timer[i].timer.emu)
            timer_cancel(&s->timer[i].timer);
    region_remove(dev->emu, &dev->emu->memory, &s->region);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->hpet = NULL;
}

EMU_PRIV const struct device_class hpet_class = {
    .name = "hpet", .bus = "system", .help = "high precision event timers", .instance_size = sizeof(struct hpet),
    .create = hpet_create, .reset = hpet_reset, .destroy = hpet_destroy,
};
#undef HPET_BASE
#undef HPET_TICK_NS
#undef HPET_CAPABILITIES
#undef HPET_ROUTES
#undef HPET_MIN_EDGE_NS
