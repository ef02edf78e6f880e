/* dev/acpi_pm.c - power management function of the PIIX4: ACPI fixed hardware, GPE block, SMBus host.
 *
 * Models     Intel 82371AB (PIIX4) 290562-001 §7 (function 3); ACPI specification 2.0 §4.7. Ids, reset values, the sleep types of the DSDT, the GPE
 *            block at AFE0h and the ACPI enable commands at port B2h as QEMU's pc shows them.
 * Contract   Function 01.3. SCI leaves at board_gsi(9). The monitor's and the embedder's power button comes in by acpi_power_button().
 *            Writes to B2h come from piix3.c.
 * Theory     The PM timer is a function of virtual time (3.579545 MHz, 24 bits); its status bit is made from the half periods passed
 *            since the last look (pm_sync), and an event is armed only while its interrupt is enabled. Firmware moves the blocks by
 *            PMBA (40h, enabled by 80h bit 0) and the SMBus base (90h, enabled by D2h bit 0).
 * Invariants 1. SCI is high exactly while an event bit and its enable bit are both set, in PM1 or in GPE0.
 *            2. timer is armed exactly while TMR_EN is set and TMR_STS is not.
 * Missing    SMM traps and device monitors (APMC_EN reads 1, so that SeaBIOS does not wait for its SMI handler); SMBus slaves: every transfer
 *            ends with DEV_ERR, as on a board without memory modules' EEPROMs. Suspend to RAM wakes at once (WAK_STS).
 */
#include "../machine.h"
#include "dev.h"

enum {
    PM_STS = 0, PM_EN = 2, PM_CNT = 4, PM_TMR = 8, PM_BLOCK = 64,
    PM_TMR_STS = 1, PM_GBL_STS = 1 << 5, PM_PWRBTN = 1 << 8, PM_SLPBTN = 1 << 9, PM_RTC = 1 << 10, PM_WAK_STS = 1 << 15,
    PM_EVENTS = PM_TMR_STS | PM_GBL_STS | PM_PWRBTN | PM_SLPBTN | PM_RTC,
    PM_STS_WRITABLE = PM_EVENTS | 1 << 4 | PM_WAK_STS,
    PM_CNT_SCI_EN = 1, PM_CNT_SLP_EN = 1 << 13, PM_CNT_SLP_TYP_SHIFT = 10,
    PM_SLP_S5 = 0, PM_SLP_S3 = 1, PM_SLP_S4 = 2, /* sleep types as the DSDT names them */
    PM_CONFIG_PMBA = 0x40, PM_CONFIG_DEVACTB = 0x58, PM_CONFIG_PMREGMISC = 0x80, PM_CONFIG_SMBBA = 0x90, PM_CONFIG_SMBHSTCFG = 0xD2,
    PM_SMB_STATUS = 0, PM_SMB_CONTROL = 2, PM_SMB_SIZE = 64, PM_SMB_INTR = 2, PM_SMB_DEV_ERR = 4, PM_SMB_START = 0x40,
    PM_GPE_BASE = 0xAFE0, PM_GPE_SIZE = 4, PM_SMB_DEFAULT_BASE = 0xB100,
    PM_ACPI_ENABLE = 0xF1, PM_ACPI_DISABLE = 0xF0 /* commands at B2h */
};
#define PM_TIMER_HZ 3579545u

struct pm {
    struct pci_device pci;
    struct region block, gpe, smbus;
    uint16_t status, enable, control;
    uint8_t gpe_status[2], gpe_enable[2];
    uint8_t smb[PM_SMB_SIZE];
    uint64_t seen_half; /* PM timer's half periods (bit 23 changes) already in status */
    struct timer timer;
    bool sci;
};

/* ---- timer and SCI ---- */

static uint64_t pm_ticks(struct pm *s) { return muldiv64((uint64_t)emu_now_ns(s->pci.dev.emu), PM_TIMER_HZ, (uint64_t)NS_PER_SEC); }

static void pm_sync(struct pm *s)
{
    uint64_t half = pm_ticks(s) >> 23;
    if (half != s->seen_half)
        s->status |= PM_TMR_STS;
    s->seen_half = half;
}

static void pm_update(struct pm *s)
{
    bool sci;
    pm_sync(s);
    sci = (s->status & s->enable & PM_EVENTS) || (s->gpe_status[0] & s->gpe_enable[0]) || (s->gpe_status[1] & s->gpe_enable[1]);
    if (sci != s->sci) {
        struct irq line = board_gsi(s->pci.dev.emu, 9);
        s->sci = sci;
        irq_set(&line, sci);
    }
    if ((s->enable & PM_TMR_STS) && !(s->status & PM_TMR_STS))
        timer_arm(&s->timer, (int64_t)muldiv64((s->seen_half + 1) << 23, (uint64_t)NS_PER_SEC, PM_TIMER_HZ) + 1);
    else
        timer_cancel(&s->timer);
}

static void pm_fire(void *opaque) { pm_update(opaque); }

EMU_PRIV void acpi_power_button(struct emu *e)
{
    struct pm *s = chipset_of(e) ? chipset_of(e)->pm : NULL;
    if (!s) {
        emu_request(e, REQ_SHUTDOWN);
        return;
    }
    s->status |= PM_PWRBTN;
    pm_update(s);
}

EMU_PRIV void piix4_pm_apm_command(struct emu *e, uint8_t value)
{
    struct pm *s = chipset_of(e) ? chipset_of(e)->pm : NULL;
    if (!s)
        return;
    if (value == PM_ACPI_ENABLE)
        s->control |= PM_CNT_SCI_EN;
    else if (value == PM_ACPI_DISABLE)
        s->control &= (uint16_t)~PM_CNT_SCI_EN;
}

/* ---- PM block ---- */

static void pm_sleep(struct pm *s)
{
    struct emu *e = s->pci.dev.emu;
    unsigned type = (s->control >> PM_CNT_SLP_TYP_SHIFT) & 7;
    switch (type) {
    case PM_SLP_S5:
    case PM_SLP_S4: emu_request(e, REQ_SHUTDOWN); break; /* S4: the guest has saved itself */
    default:
        emu_log(e, LOG_UNIMP, "acpi: sleep type %u: the machine stays awake", type);
        s->status |= PM_WAK_STS;
        break;
    }
}

static uint64_t pm_block_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pm *s = opaque;
    uint8_t bytes[PM_TMR + 8];
    memset(bytes, 0, sizeof bytes);
    if (offset < PM_EN) /* the timer itself is read often */
        pm_update(s);
    st16le(bytes + PM_STS, s->status);
    st16le(bytes + PM_EN, s->enable);
    st16le(bytes + PM_CNT, s->control);
    st32le(bytes + PM_TMR, (uint32_t)pm_ticks(s) & 0xFFFFFFu);
    return offset + size <= sizeof bytes ? ldn_le(bytes + offset, size) : 0;
}

static void pm_block_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pm *s = opaque;
    bool sleep = false;
    unsigned i;
    pm_sync(s);
    for (i = 0; i < size; i++, value >>= 8) {
        unsigned at = (unsigned)offset + i, shift = 8 * (at & 1);
        uint16_t byte = (uint16_t)((value & 0xFF) << shift), mask = (uint16_t)(0xFFu << shift);
        switch (at & ~1u) {
        case PM_STS: s->status &= (uint16_t)~(byte & PM_STS_WRITABLE); break;
        case PM_EN: s->enable = (uint16_t)((s->enable & ~mask) | (byte & PM_EVENTS)); break;
        case PM_CNT:
            s->control = (uint16_t)(((s->control & ~mask) | byte) & ~PM_CNT_SLP_EN);
            sleep = sleep || (byte & PM_CNT_SLP_EN);
            break;
        default: break;
        }
    }
    if (sleep)
        pm_sleep(s);
    pm_update(s);
}

static const struct region_ops pm_block_ops = { pm_block_read, pm_block_write, 1, 4, true };

/* ---- general purpose events: nobody raises one yet ---- */

static uint64_t pm_gpe_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pm *s = opaque;
    (void)size;
    return offset < 2 ? s->gpe_status[offset] : s->gpe_enable[offset - 2];
}

static void pm_gpe_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pm *s = opaque;
    (void)size;
    if (offset < 2)
        s->gpe_status[offset] &= (uint8_t)~value;
    else
        s->gpe_enable[offset - 2] = (uint8_t)value;
    pm_update(s);
}

static const struct region_ops pm_gpe_ops = { pm_gpe_read, pm_gpe_write, 1, 1, false };

/* ---- SMBus host ---- */

static uint64_t pm_smbus_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)size;
    return ((struct pm *)opaque)->smb[offset];
}

static void pm_smbus_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pm *s = opaque;
    (void)size;
    if (offset == PM_SMB_STATUS) {
        s->smb[PM_SMB_STATUS] &= (uint8_t)~value;
        return;
    }
    s->smb[offset] = (uint8_t)value;
    if (offset == PM_SMB_CONTROL && (value & PM_SMB_START)) {
        s->smb[PM_SMB_CONTROL] &= (uint8_t)~PM_SMB_START;
        s->smb[PM_SMB_STATUS] |= PM_SMB_DEV_ERR;
    }
}

static const struct region_ops pm_smbus_ops = { pm_smbus_read, pm_smbus_write, 1, 1, false };

/* ---- configuration ---- */

static void pm_update_mappings(struct pm *s)
{
    struct emu *e = s->pci.dev.emu;
    const uint8_t *c = s->pci.config;
    region_set(e, &e->ports, &s->block, ld32le(c + PM_CONFIG_PMBA) & 0xFFC0, c[PM_CONFIG_PMREGMISC] & 1);
    region_set(e, &e->ports, &s->smbus, ld32le(c + PM_CONFIG_SMBBA) & 0xFFC0, c[PM_CONFIG_SMBHSTCFG] & 1);
}

static void pm_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
    struct pm *s = EMU_CONTAINER(d, struct pm, pci);
    pci_config_write(d, offset, value, size);
    d->config[PM_CONFIG_PMBA] = (uint8_t)((d->config[PM_CONFIG_PMBA] & 0xC0) | 1);   /* I/O space, 64 bytes */
    d->config[PM_CONFIG_SMBBA] = (uint8_t)((d->config[PM_CONFIG_SMBBA] & 0xC0) | 1);
    d->config[PM_CONFIG_DEVACTB + 3] |= 0x02;                                        /* APMC_EN */
    pm_update_mappings(s);
}

/* ---- the device ---- */

static int pm_create(struct device *dev, struct options *opts, struct err *err)
{
    struct pm *s = EMU_CONTAINER(dev, struct pm, pci.dev);
    struct emu *e = dev->emu;
    int r = pci_device_init(&s->pci, 1 * 8 + 3, 0x8086, 0x7113, 0x06800003, err);
    (void)opts;
    if (r < 0)
        return r;
    chipset_of(e)->pm = s;
    s->pci.config[6] = 0x80; /* fast back to back, DEVSEL medium */
    s->pci.config[7] = 0x02;
    s->pci.config[0x3D] = 1;
    s->pci.config_write = pm_config_write;
    timer_init(&s->timer, e, pm_fire, s);
    region_init_io(&s->block, "acpi-pm", &pm_block_ops, s, PM_BLOCK);
    region_add(e, &e->ports, &s->block, 0, 0);
    region_set(e, &e->ports, &s->block, 0, false);
    region_init_io(&s->smbus, "smbus", &pm_smbus_ops, s, PM_SMB_SIZE);
    region_add(e, &e->ports, &s->smbus, PM_SMB_DEFAULT_BASE, 0);
    return port_add(e, &s->gpe, "acpi-gpe0", PM_GPE_BASE, PM_GPE_SIZE, &pm_gpe_ops, s);
}

static void pm_reset(struct device *dev)
{
    struct pm *s = EMU_CONTAINER(dev, struct pm, pci.dev);
    const struct config *config = &dev->emu->config;
    uint8_t *c = s->pci.config;
    memset(c + 0x40, 0, sizeof s->pci.config - 0x40);
    c[PM_CONFIG_PMBA] = 1;
    c[PM_CONFIG_DEVACTB + 3] = 0x02;
    st16le(c + PM_CONFIG_SMBBA, PM_SMB_DEFAULT_BASE | 1);
    c[PM_CONFIG_SMBHSTCFG] = 0x09;
    c[0x5F] = (uint8_t)(0x10 | (config->parallel[0] ? 0x80 : 0)); /* ports that are there, for the DSDT of SeaBIOS's days */
    c[0x63] = 0x60;
    c[0x67] = (uint8_t)((config->serial[0] ? 0x08 : 0) | (config->serial[1] ? 0x90 : 0));
    s->status = s->enable = s->control = 0;
    memset(s->gpe_status, 0, sizeof s->gpe_status);
    memset(s->gpe_enable, 0, sizeof s->gpe_enable);
    memset(s->smb, 0, sizeof s->smb);
    s->seen_half = pm_ticks(s) >> 23;
    pm_update_mappings(s);
    pm_update(s);
}

static void pm_destroy(struct device *dev)
{
    struct pm *s = EMU_CONTAINER(dev, struct pm, pci.dev);
    struct emu *e = dev->emu;
    if (s->timer.emu)
        timer_cancel(&s->timer);
    region_remove(e, &e->ports, &s->block);
    region_remove(e, &e->ports, &s->gpe);
    region_remove(e, &e->ports, &s->smbus);
    pci_device_remove(&s->pci);
    if (chipset_of(e))
        chipset_of(e)->pm = NULL;
}

EMU_PRIV const struct device_class piix4_pm_class = {
    .name = "PIIX4_PM", .bus = "pci", .help = "Intel PIIX4 power management (ACPI) and SMBus", .instance_size = sizeof(struct pm),
    .create = pm_create, .reset = pm_reset, .destroy = pm_destroy,
};
#undef PM_TIMER_HZ
