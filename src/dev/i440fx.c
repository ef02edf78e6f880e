/* dev/i440fx.c - host bridge: who answers between 640 KiB and 1 MiB.
 *
 * Models     Intel 82441FX (440FX PMC), 290549-001: PAM registers 59h-5Fh (§3.2.17), SMRAM register 72h (§3.2.20). Ids and reset values as
 *            QEMU's pc shows them.
 * Contract   board.c creates RAM first, then this device, which makes the PCI bus. Firmware adds ROM at MAP_PRIO_ROM.
 * Theory     Between A0000h and FFFFFh the bridge sends an access to the PCI side unless a register says RAM. The PCI side is the region
 *            "pci-hole" (nobody: all ones) with the VGA window and ROMs above it. Each of the 13 PAM fields has a RAM region above those,
 *            whose read and write halves are switched by the field's two bits. A0000h-BFFFFh is RAM while SMRAM.D_OPEN is set.
 * Invariants 1. pam[n] answers reads exactly while RE of field n is set, writes while WE is.
 *            2. Once D_LCK is set, register 72h does not change until reset.
 * Missing    System management mode itself (no SMI is ever raised); DRAM row registers (kept, no effect).
 */
#include "../machine.h"
#include "dev.h"

enum {
    I440FX_PAM0 = 0x59, I440FX_PAM_COUNT = 13, I440FX_SMRAM = 0x72, I440FX_RAM_SIZE = 0x57 /* in 8 MiB, a note for coreboot */,
    I440FX_SMRAM_G_SMRAME = 0x08, I440FX_SMRAM_D_LCK = 0x10, I440FX_SMRAM_D_OPEN = 0x40, I440FX_SMRAM_C_BASE = 0x02
};
#define I440FX_LEGACY_BASE UINT64_C(0xA0000)
#define I440FX_LEGACY_SIZE UINT64_C(0x60000)
#define I440FX_SMRAM_SIZE UINT64_C(0x20000)

struct i440fx {
    struct pci_device pci;
    struct region hole, smram;
    struct region pam[I440FX_PAM_COUNT]; /* 0: F0000h-FFFFFh, 1 + n: 16 KiB at C0000h + n * 16 KiB */
    bool has_ram;
};

static uint64_t i440fx_pam_base(unsigned i) { return i ? 0xC0000 + (uint64_t)(i - 1) * 0x4000 : 0xF0000; }
static uint64_t i440fx_pam_size(unsigned i) { return i ? 0x4000 : 0x10000; }

static void i440fx_update_memory(struct i440fx *s)
{
    struct emu *e = s->pci.dev.emu;
    unsigned i;
    if (!s->has_ram)
        return;
    for (i = 0; i < I440FX_PAM_COUNT; i++) {
        struct region *r = &s->pam[i];
        uint8_t field = s->pci.config[I440FX_PAM0 + (i + 1) / 2]; /* 59h: high nibble is field 0; 5Ah: low is 1, high is 2 ... */
        uint8_t access = (uint8_t)(((i & 1) ? field : field >> 4) & (REGION_READS | REGION_WRITES)); /* bit 0 RE, bit 1 WE */
        if (access != r->access || r->enabled != (access != 0)) {
            r->access = access;
            region_set(e, &e->memory, r, r->base, false); /* the change of halves is seen through a change of state */
            region_set(e, &e->memory, r, r->base, access != 0);
        }
    }
    region_set(e, &e->memory, &s->smram, I440FX_LEGACY_BASE, (s->pci.config[I440FX_SMRAM] & I440FX_SMRAM_D_OPEN) != 0);
}
EMU_STATIC_ASSERT(REGION_READS == 1 && REGION_WRITES == 2, i440fx_pam_bits);

static void i440fx_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
    struct i440fx *s = EMU_CONTAINER(d, struct i440fx, pci);
    uint8_t smram = d->config[I440FX_SMRAM];
    pci_config_write(d, offset, value, size);
    if (smram & I440FX_SMRAM_D_LCK)
        d->config[I440FX_SMRAM] = smram;
    else if (d->config[I440FX_SMRAM] & I440FX_SMRAM_D_LCK)
        d->config[I440FX_SMRAM] &= (uint8_t)~I440FX_SMRAM_D_OPEN;
    if (offset <= I440FX_SMRAM && offset + size > I440FX_PAM0)
        i440fx_update_memory(s);
}

static const struct region_ops i440fx_hole_ops = { NULL, NULL, 1, 8, true };

static int i440fx_create(struct device *dev, struct options *opts, struct err *err)
{
    struct i440fx *s = EMU_CONTAINER(dev, struct i440fx, pci.dev);
    struct emu *e = dev->emu;
    unsigned i;
    int r = pci_bus_create(e, err);
    (void)opts;
    if (r < 0)
        return r;
    r = pci_device_init(&s->pci, 0, 0x8086, 0x1237, 0x06000002, err);
    if (r < 0)
        return r;
    chipset_of(e)->i440fx = s;
    s->pci.config[7] = 0x02; /* DEVSEL medium */
    s->pci.config_write = i440fx_config_write;
    region_init_io(&s->hole, "pci-hole", &i440fx_hole_ops, s, I440FX_LEGACY_SIZE);
    region_add(e, &e->memory, &s->hole, I440FX_LEGACY_BASE, MAP_PRIO_HOLE);
    s->has_ram = e->ram && e->ram->size_bytes >= I440FX_LEGACY_BASE + I440FX_LEGACY_SIZE;
    if (!s->has_ram)
        return 0;
    region_init_ram(&s->smram, "smram", e->ram, I440FX_LEGACY_BASE, I440FX_SMRAM_SIZE);
    region_add(e, &e->memory, &s->smram, I440FX_LEGACY_BASE, MAP_PRIO_SMRAM);
    for (i = 0; i < I440FX_PAM_COUNT; i++) {
        region_init_ram(&s->pam[i], "pam-ram", e->ram, i440fx_pam_base(i), i440fx_pam_size(i));
        region_add(e, &e->memory, &s->pam[i], i440fx_pam_base(i), MAP_PRIO_PAM);
    }
    i440fx_update_memory(s);
    return 0;
}

static void i440fx_reset(struct device *dev)
{
    struct i440fx *s = EMU_CONTAINER(dev, struct i440fx, pci.dev);
    memset(s->pci.config + 0x40, 0, sizeof s->pci.config - 0x40);
    if (dev->emu->ram)
        s->pci.config[I440FX_RAM_SIZE] = (uint8_t)EMU_MIN(dev->emu->ram->size_bytes / (8 * MIB), 255);
    s->pci.config[I440FX_SMRAM] = I440FX_SMRAM_C_BASE;
    dev->emu->pci->address = 0;
    i440fx_update_memory(s);
}

static void i440fx_destroy(struct device *dev)
{
    struct i440fx *s = EMU_CONTAINER(dev, struct i440fx, pci.dev);
    struct emu *e = dev->emu;
    unsigned i;
    region_remove(e, &e->memory, &s->hole);
    region_remove(e, &e->memory, &s->smram);
    for (i = 0; i < I440FX_PAM_COUNT; i++)
        region_remove(e, &e->memory, &s->pam[i]);
    pci_device_remove(&s->pci);
    pci_bus_destroy(e);
    if (chipset_of(e))
        chipset_of(e)->i440fx = NULL;
}

EMU_PRIV const struct device_class i440fx_class = {
    .name = "i440FX", .bus = "pci", .help = "Intel 440FX host bridge", .instance_size = sizeof(struct i440fx),
    .create = i440fx_create, .reset = i440fx_reset, .destroy = i440fx_destroy,
};
#undef I440FX_LEGACY_BASE
#undef I440FX_LEGACY_SIZE
#undef I440FX_SMRAM_SIZE
