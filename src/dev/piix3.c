/* dev/piix3.c - PCI to ISA bridge: PIRQ routing, resets, APM ports, port 92h, A20, FERR.
 *
 * Models     Intel 82371SB (PIIX3), 290550-002: PIRQRC 60h-63h (§2.2.6), reset control CF9h (§2.5.6.1), APM ports B2h-B3h, coprocessor error
 *            port F0h. Port 92h as PS/2 system control port A. Ids and reset values as QEMU's pc shows them.
 * Contract   emu->pci->intx[] lines end in piix3_set_pirq(); the ISA inputs come out at board_gsi(). The IDE function 01.1 and the power
 *            management function 01.3 are files of their own. CF9h is decoded by pci.c, which passes it here.
 * Theory     A PIRQ is routed to one ISA input or to none; several may share one, which is then driven with their OR.
 * Invariants 1. irq_level bit n is the OR of the levels of all PIRQs routed to ISA input n, and what board_gsi(n) was last told.
 * Missing    X-bus chip selects, ISA timing, MIRQ: registers are kept without effect.
 */
#include "../machine.h"
#include "dev.h"

enum {
    PIIX3_PIRQRC = 0x60, PIIX3_PIRQ_COUNT = 4, PIIX3_PIRQ_OFF = 0x80, PIIX3_ISA_IRQS = 16,
    PIIX3_RCR_HARD = 2, PIIX3_RCR_CPU = 4, /* reset control: type, and the bit that triggers */
    PORT92_FAST_RESET = 1, PORT92_A20 = 2
};

struct piix3 {
    struct pci_device pci;
    uint8_t pirq_level[PIIX3_PIRQ_COUNT];
    uint16_t irq_level;
    uint8_t reset_control;
    uint8_t apm_control, apm_status;
    struct region apm, port80, port_f0;
};

/* ---- interrupt routing ---- */

static void piix3_route(struct piix3 *s)
{
    uint16_t level = 0, changed;
    unsigned i;
    for (i = 0; i < PIIX3_PIRQ_COUNT; i++) {
        uint8_t route = s->pci.config[PIIX3_PIRQRC + i];
        if (s->pirq_level[i] && route < PIIX3_ISA_IRQS)
            level |= (uint16_t)(1u << route);
    }
    changed = level ^ s->irq_level;
    s->irq_level = level;
    for (i = 0; i < PIIX3_ISA_IRQS; i++)
        if ((changed >> i) & 1) {
            struct irq line = board_gsi(s->pci.dev.emu, (int)i);
            irq_set(&line, (level >> i) & 1);
        }
}

EMU_PRIV void piix3_set_pirq(void *piix3, int pirq, int level)
{
    struct piix3 *s = piix3;
    s->pirq_level[pirq & 3] = level != 0;
    piix3_route(s);
}

static void piix3_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
    pci_config_write(d, offset, value, size);
    if (offset < PIIX3_PIRQRC + PIIX3_PIRQ_COUNT && offset + size > PIIX3_PIRQRC)
        piix3_route(EMU_CONTAINER(d, struct piix3, pci));
}

/* ---- reset control, CF9h ---- */

EMU_PRIV void piix3_reset_control(struct emu *e, uint8_t value)
{
    struct piix3 *s = chipset_of(e) ? chipset_of(e)->piix3 : NULL;
    if (!s)
        return;
    s->reset_control = value & PIIX3_RCR_HARD;
    if (value & PIIX3_RCR_CPU)
        emu_request(e, REQ_RESET);
}

EMU_PRIV uint8_t piix3_read_reset_control(struct emu *e)
{
    struct piix3 *s = chipset_of(e) ? chipset_of(e)->piix3 : NULL;
    return s ? s->reset_control : 0xFF;
}

/* ---- APM ports: B2h is the firmware's command port, too (ACPI enable) ---- */

static uint64_t piix3_apm_read(void *opaque, uint64_t offset, unsigned size)
{
    struct piix3 *s = opaque;
    (void)size;
    return offset ? s->apm_status : s->apm_control;
}

static void piix3_apm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix3 *s = opaque;
    (void)size;
    if (offset) {
        s->apm_status = (uint8_t)value;
    } else {
        s->apm_control = (uint8_t)value;
        piix4_pm_apm_command(s->pci.dev.emu, (uint8_t)value);
    }
}

static const struct region_ops piix3_apm_ops = { piix3_apm_read, piix3_apm_write, 1, 1, false };

/* ---- port 80h (POST codes, delays) and F0h (coprocessor error) ---- */

static uint64_t piix3_ones_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque;
    (void)offset;
    (void)size;
    return UINT64_MAX;
}

static void piix3_post_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)opaque;
    (void)offset;
    (void)value;
    (void)size;
}

static void piix3_f0_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix3 *s = opaque;
    (void)offset;
    (void)value;
    (void)size;
    chipset_set_ferr(s->pci.dev.emu, false);
}

static const struct region_ops piix3_port80_ops = { piix3_ones_read, piix3_post_write, 1, 4, true };
static const struct region_ops piix3_f0_ops = { piix3_ones_read, piix3_f0_write, 1, 1, false };

EMU_PRIV void chipset_set_ferr(struct emu *e, bool on)
{
    struct irq line = board_gsi(e, 13);
    irq_set(&line, on);
}

/* ---- the device ---- */

static int piix3_create(struct device *dev, struct options *opts, struct err *err)
{
    struct piix3 *s = EMU_CONTAINER(dev, struct piix3, pci.dev);
    struct emu *e = dev->emu;
    unsigned i;
    int r = pci_device_init(&s->pci, 1 * 8 + 0, 0x8086, 0x7000, 0x06010000, err);
    (void)opts;
    if (r < 0)
        return r;
    chipset_of(e)->piix3 = s;
    s->pci.config[7] = 0x02;    /* DEVSEL medium */
    s->pci.config[0x0E] = 0x80; /* more functions follow */
    s->pci.config_write = piix3_config_write;
    for (i = 0; i < PIIX3_PIRQ_COUNT; i++) {
        e->pci->intx[i].set = piix3_set_pirq;
        e->pci->intx[i].opaque = s;
        e->pci->intx[i].line = (int)i;
    }
    port_add(e, &s->apm, "apm", 0xB2, 2, &piix3_apm_ops, s);
    port_add(e, &s->port80, "post-code", 0x80, 1, &piix3_port80_ops, s);
    port_add(e, &s->port_f0, "coprocessor-error", 0xF0, 1, &piix3_f0_ops, s);
    return 0;
}

static void piix3_reset(struct device *dev)
{
    static const struct { uint8_t offset, value; } defaults[] = {
        { 0x4C, 0x4D }, { 0x4E, 0x03 }, { 0x60, 0x80 }, { 0x61, 0x80 }, { 0x62, 0x80 }, { 0x63, 0x80 }, { 0x69, 0x02 },
        { 0x70, 0x80 }, { 0x76, 0x0C }, { 0x77, 0x0C }, { 0x78, 0x02 }, { 0xA0, 0x08 }, { 0xA8, 0x0F },
    };
    struct piix3 *s = EMU_CONTAINER(dev, struct piix3, pci.dev);
    size_t i;
    memset(s->pci.config + 0x40, 0, sizeof s->pci.config - 0x40);
    for (i = 0; i < EMU_ARRAY_LEN(defaults); i++)
        s->pci.config[defaults[i].offset] = defaults[i].value;
    s->reset_control = s->apm_control = s->apm_status = 0;
    piix3_route(s);
    chipset_set_ferr(dev->emu, false);
}

static void piix3_destroy(struct device *dev)
{
    struct piix3 *s = EMU_CONTAINER(dev, struct piix3, pci.dev);
    struct emu *e = dev->emu;
    region_remove(e, &e->ports, &s->apm);
    region_remove(e, &e->ports, &s->port80);
    region_remove(e, &e->ports, &s->port_f0);
    if (e->pci)
        memset(e->pci->intx, 0, sizeof e->pci->intx);
    pci_device_remove(&s->pci);
    if (chipset_of(e))
        chipset_of(e)->piix3 = NULL;
}

EMU_PRIV const struct device_class piix3_class = {
    .name = "PIIX3", .bus = "pci", .help = "Intel PIIX3 PCI to ISA bridge", .instance_size = sizeof(struct piix3),
    .create = piix3_create, .reset = piix3_reset, .destroy = piix3_destroy,
};

/* ---- A20 and port 92h ---- */

EMU_PRIV void chipset_set_a20(struct emu *e, bool on)
{
    uint64_t mask = on ? UINT64_MAX : ~(UINT64_C(1) << 20);
    if (e->a20_mask == mask)
        return;
    e->a20_mask = mask;
    if (e->on_map_change)
        e->on_map_change(e);
}

EMU_PRIV bool chipset_get_a20(const struct emu *e) { return (e->a20_mask >> 20) & 1; }

struct port92 {
    struct device dev;
    struct region port;
    uint8_t value;
};

static uint64_t port92_read(void *opaque, uint64_t offset, unsigned size)
{
    struct port92 *s = opaque;
    (void)offset;
    (void)size;
    return (s->value & ~PORT92_A20) | (chipset_get_a20(s->dev.emu) ? PORT92_A20 : 0);
}

static void port92_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct port92 *s = opaque;
    uint8_t was = s->value;
    (void)offset;
    (void)size;
    s->value = (uint8_t)value;
    chipset_set_a20(s->dev.emu, (value & PORT92_A20) != 0);
    if ((value & PORT92_FAST_RESET) && !(was & PORT92_FAST_RESET))
        emu_request(s->dev.emu, REQ_RESET);
}

static const struct region_ops port92_ops = { port92_read, port92_write, 1, 1, false };

static int port92_create(struct device *dev, struct options *opts, struct err *err)
{
    struct port92 *s = EMU_CONTAINER(dev, struct port92, dev);
    (void)opts;
    if (!chipset_get(dev->emu))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(dev->emu)->port92 = s;
    return port_add(dev->emu, &s->port, "port92", 0x92, 1, &port92_ops, s);
}

static void port92_reset(struct device *dev)
{
    EMU_CONTAINER(dev, struct port92, dev)->value = 0;
    chipset_set_a20(dev->emu, true);
}

static void port92_destroy(struct device *dev)
{
    region_remove(dev->emu, &dev->emu->ports, &EMU_CONTAINER(dev, struct port92, dev)->port);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->port92 = NULL;
}

EMU_PRIV const struct device_class port92_class = {
    .name = "port92", .bus = "isa", .help = "PS/2 system control port A: fast A20 and reset", .instance_size = sizeof(struct port92),
    .create = port92_create, .reset = port92_reset, .destroy = port92_destroy,
};
