/* dev/ioapic.c - I/O APIC, 24 pins.
 *
 * Models     Intel 82093AA, 290566-001, with the version 20h and the EOI register (offset 40h) of later parts, as QEMU's pc shows it.
 * Contract   Lines come in by ioapic_set_pin(); interrupts leave by apic_deliver(); local APICs report the end of level-triggered ones by
 *            ioapic_eoi(). chipset_set_gsi() joins it with the 8259 pair.
 * Theory     A pin has a level and a redirection entry. An edge pin sends one message at its rising edge. A level pin sends when it is
 *            asserted, unmasked and Remote IRR is clear; sending sets Remote IRR, the EOI clears it and looks at the level again.
 * Invariants 1. Remote IRR is set only in level-triggered entries.
 *            2. An asserted, unmasked level pin has Remote IRR set (for delivery modes that use it).
 * Missing    The polarity bit is kept without effect: lines here carry "asserted", not a voltage.
 */
#include "../machine.h"
#include "dev.h"

enum {
    IOAPIC_PINS = 24, IOAPIC_VERSION = 0x20,
    IOAPIC_REGSEL = 0x00, IOAPIC_WINDOW = 0x10, IOAPIC_EOI = 0x40,
    IOAPIC_REG_ID = 0, IOAPIC_REG_VERSION = 1, IOAPIC_REG_ARB = 2, IOAPIC_REG_REDIR = 0x10,
    IOAPIC_REDIR_LOGICAL = 1 << 11, IOAPIC_REDIR_STATUS = 1 << 12, IOAPIC_REDIR_REMOTE_IRR = 1 << 14, IOAPIC_REDIR_LEVEL = 1 << 15, IOAPIC_REDIR_MASKED = 1 << 16,
    IOAPIC_REDIR_READ_ONLY = IOAPIC_REDIR_STATUS | IOAPIC_REDIR_REMOTE_IRR, IOAPIC_REDIR_LOW_MASK = 0x1FFFF
};
#define IOAPIC_BASE UINT64_C(0xFEC00000)

struct ioapic {
    struct device dev;
    struct region region;
    uint8_t select, id;
    uint32_t level; /* bit n: pin n is asserted */
    uint64_t redir[IOAPIC_PINS];
};

static void ioapic_send(struct ioapic *s, unsigned pin)
{
    uint64_t r = s->redir[pin];
    unsigned mode = (unsigned)(r >> 8) & 7;
    struct emu *e = s->dev.emu;
    apic_deliver(e, (uint32_t)(r >> 56), (r & IOAPIC_REDIR_LOGICAL) != 0, mode, (uint8_t)r, (r & IOAPIC_REDIR_LEVEL) != 0);
}

/* Level pins: sends if it is time (invariant 2). */
static void ioapic_service_level(struct ioapic *s, unsigned pin)
{
    uint64_t r = s->redir[pin];
    unsigned mode = (unsigned)(r >> 8) & 7;
    if (!(r & IOAPIC_REDIR_LEVEL) || (r & (IOAPIC_REDIR_MASKED | IOAPIC_REDIR_REMOTE_IRR)) || !((s->level >> pin) & 1))
        return;
    if (mode == APIC_FIXED || mode == APIC_LOWEST)
        s->redir[pin] |= IOAPIC_REDIR_REMOTE_IRR;
    ioapic_send(s, pin);
}

EMU_PRIV void ioapic_set_pin(struct emu *e, int pin, int level)
{
    struct ioapic *s = chipset_of(e) ? chipset_of(e)->ioapic : NULL;
    uint32_t bit, was;
    if (!s || pin < 0 || pin >= IOAPIC_PINS)
        return;
    bit = UINT32_C(1) << pin;
    was = s->level;
    s->level = level ? s->level | bit : s->level & ~bit;
    if (s->redir[pin] & IOAPIC_REDIR_LEVEL)
        ioapic_service_level(s, (unsigned)pin);
    else if (level && !(was & bit) && !(s->redir[pin] & IOAPIC_REDIR_MASKED)) /* edges at a masked pin are lost: 82093AA §3.2.4 */
        ioapic_send(s, (unsigned)pin);
}

static void ioapic_end(struct ioapic *s, uint8_t vector)
{
    unsigned i;
    for (i = 0; i < IOAPIC_PINS; i++)
        if ((s->redir[i] & IOAPIC_REDIR_REMOTE_IRR) && (uint8_t)s->redir[i] == vector) {
            s->redir[i] &= ~(uint64_t)IOAPIC_REDIR_REMOTE_IRR;
            ioapic_service_level(s, i);
        }
}

EMU_PRIV void ioapic_eoi(struct emu *e, uint8_t vector)
{
    struct ioapic *s = chipset_of(e) ? chipset_of(e)->ioapic : NULL;
    if (s)
        ioapic_end(s, vector);
}

EMU_PRIV void chipset_set_gsi(void *emu, int gsi, int level)
{
    struct emu *e = emu;
    if (gsi < 16)
        pic_set_line(e, gsi, level);
    ioapic_set_pin(e, gsi == 0 ? 2 : gsi, level); /* input 2 itself: an HPET timer routed there */
}

/* ---- registers ---- */

static uint32_t ioapic_reg_read(const struct ioapic *s)
{
    unsigned i = (unsigned)(s->select - IOAPIC_REG_REDIR) / 2;
    switch (s->select) {
    case IOAPIC_REG_ID:
    case IOAPIC_REG_ARB: return (uint32_t)s->id << 24;
    case IOAPIC_REG_VERSION: return IOAPIC_VERSION | ((IOAPIC_PINS - 1) << 16);
    default:
        if (s->select < IOAPIC_REG_REDIR || i >= IOAPIC_PINS)
            return 0;
        return (uint32_t)(s->redir[i] >> ((s->select & 1) ? 32 : 0));
    }
}

static void ioapic_reg_write(struct ioapic *s, uint32_t value)
{
    unsigned i = (unsigned)(s->select - IOAPIC_REG_REDIR) / 2;
    uint64_t r;
    if (s->select == IOAPIC_REG_ID)
        s->id = (value >> 24) & 15;
    if (s->select < IOAPIC_REG_REDIR || i >= IOAPIC_PINS)
        return;
    r = s->redir[i];
    if (s->select & 1)
        r = (uint32_t)r | ((uint64_t)(value & 0xFF000000u) << 32);
    else
        r = (r & UINT64_C(0xFFFFFFFF00000000)) | (value & IOAPIC_REDIR_LOW_MASK & ~(uint32_t)IOAPIC_REDIR_READ_ONLY) | (r & IOAPIC_REDIR_READ_ONLY);
    if (!(r & IOAPIC_REDIR_LEVEL))
        r &= ~(uint64_t)IOAPIC_REDIR_REMOTE_IRR; /* invariant 1; kernels clear a stuck Remote IRR this way */
    s->redir[i] = r;
    ioapic_service_level(s, i);
}

static uint64_t ioapic_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ioapic *s = opaque;
    (void)size;
    switch (offset & 0xFF) {
    case IOAPIC_REGSEL: return s->select;
    case IOAPIC_WINDOW: return ioapic_reg_read(s);
    default: return 0;
    }
}

static void ioapic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ioapic *s = opaque;
    (void)size;
    switch (offset & 0xFF) {
    case IOAPIC_REGSEL: s->select = (uint8_t)value; break;
    case IOAPIC_WINDOW: ioapic_reg_write(s, (uint32_t)value); break;
    case IOAPIC_EOI: ioapic_end(s, (uint8_t)value); break;
    default: break;
    }
}

static const struct region_ops ioapic_ops = { ioapic_read, ioapic_write, 1, 4, true };

/* ---- the device ---- */

static int ioapic_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ioapic *s = EMU_CONTAINER(dev, struct ioapic, dev);
    (void)opts;
    if (!chipset_get(dev->emu))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(dev->emu)->ioapic = s;
    region_init_io(&s->region, "ioapic", &ioapic_ops, s, 4096);
    return region_add(dev->emu, &dev->emu->memory, &s->region, IOAPIC_BASE, MAP_PRIO_CHIP);
}

static void ioapic_reset(struct device *dev)
{
    struct ioapic *s = EMU_CONTAINER(dev, struct ioapic, dev);
    unsigned i;
    s->select = s->id = 0;
    for (i = 0; i < IOAPIC_PINS; i++)
        s->redir[i] = IOAPIC_REDIR_MASKED;
}

static void ioapic_destroy(struct device *dev)
{
    region_remove(dev->emu, &dev->emu->memory, &EMU_CONTAINER(dev, struct ioapic, dev)->region);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->ioapic = NULL;
}

EMU_PRIV void ioapic_print_info(struct emu *e, struct buf *out)
{
    static const char *const modes[8] = { "fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "ExtINT" };
    const struct ioapic *s = chipset_of(e) ? chipset_of(e)->ioapic : NULL;
    unsigned i;
    if (!s)
        return;
    buf_printf(out, "ioapic0: ver=0x%x id=0x%02x sel=0x%02x\n", IOAPIC_VERSION, s->id, s->select);
    for (i = 0; i < IOAPIC_PINS; i++) {
        uint64_t r = s->redir[i];
        buf_printf(out, "  pin %-2u 0x%016" PRIx64 " dest=%u vec=%-3u %s %s %s%s%s%s\n", i, r, (unsigned)(r >> 56), (unsigned)(r & 0xFF),
                   modes[(r >> 8) & 7], (r & IOAPIC_REDIR_LEVEL) ? "level" : "edge", (r & IOAPIC_REDIR_LOGICAL) ? "logical" : "physical",
                   (r & IOAPIC_REDIR_MASKED) ? " masked" : "", (r & IOAPIC_REDIR_REMOTE_IRR) ? " remote-irr" : "", ((s->level >> i) & 1) ? " asserted" : "");
    }
}

EMU_PRIV const struct device_class ioapic_class = {
    .name = "ioapic", .bus = "system", .help = "I/O APIC with 24 inputs", .instance_size = sizeof(struct ioapic),
    .create = ioapic_create, .reset = ioapic_reset, .destroy = ioapic_destroy,
};
#undef IOAPIC_BASE
