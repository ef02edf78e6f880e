/* dev/pci.c - PCI bus 0: configuration access, base address registers, INTx lines, MSI and MSI-X.
 *
 * Models     PCI Local Bus Specification 3.0: configuration mechanism #1 (§3.2.2.3.2), type 0 header (§6.1, §6.2), MSI and MSI-X
 *            (§6.8); interrupt rotation as i440FX boards wire it (and QEMU's pc): line = (slot - 1 + pin) mod 4.
 * Contract   A PCI device embeds struct pci_device first and calls pci_device_init() first in its create(), then adds BARs and
 *            capabilities; pci_device_remove() in its destroy(). board.c calls pci_device_reset() before the device's own reset.
 *            The router (piix3.c) fills bus->intx. Messages go to apic_deliver_msi().
 * Theory     config[] is what a guest reads. A write changes the bits of wmask and clears those of w1c; after a write the BARs' regions are
 *            made to follow (pci_update_mappings). A BAR is mapped while its decode bit in the command register is set and it holds an
 *            address that can be meant: neither 0 nor the all-ones pattern with which guests ask for the size.
 * Invariants 1. bus->intx_count[n] is the number of devices that drive line n; the line's level is count != 0.
 *            2. A region of a BAR is enabled exactly while that BAR decodes (rule above).
 *            3. Bits outside wmask and w1c never change by a guest's write.
 * Missing    Bridges, other buses: reads of bus numbers above 0 give all ones, as an empty bus does. Parity, master abort bits.
 */
#include "../machine.h"
#include "dev.h"

enum {
    PCI_COMMAND = 0x04, PCI_STATUS = 0x06, PCI_CACHE_LINE = 0x0C, PCI_HEADER_TYPE = 0x0E, PCI_BAR0 = 0x10, PCI_SUBSYSTEM = 0x2C,
    PCI_ROM_BAR = 0x30, PCI_CAP_POINTER = 0x34, PCI_INT_LINE = 0x3C, PCI_INT_PIN = 0x3D,
    PCI_COMMAND_IO = 1, PCI_COMMAND_MEMORY = 2, PCI_COMMAND_MASTER = 4, PCI_COMMAND_SERR = 0x100, PCI_COMMAND_INTX_DISABLE = 0x400,
    PCI_STATUS_INT = 8, PCI_STATUS_CAPS = 0x10,
    PCI_CAP_MSI = 5, PCI_CAP_MSIX = 0x11,
    PCI_MSI_CTL = 2, PCI_MSI_ADDR = 4, PCI_MSI_ADDR_HIGH = 8, PCI_MSI_DATA = 12, PCI_MSI_SIZE = 14, PCI_MSI_ENABLE = 1, PCI_MSI_64BIT = 0x80,
    PCI_MSIX_CTL = 2, PCI_MSIX_TABLE = 4, PCI_MSIX_PBA = 8, PCI_MSIX_SIZE = 12, PCI_MSIX_ENABLE = 0x8000, PCI_MSIX_MASK_ALL = 0x4000,
    PCI_MSIX_ENTRY = 16, PCI_MSIX_ENTRY_MASKED = 1,
    PCI_INTX_LEVEL = 1, PCI_INTX_COUNTED = 2 /* bits of intx_level: what the device drives; whether bus->intx_count has it */
};
/* QEMU's default subsystem ids, which drivers' tables and installed systems know. */
#define PCI_SUBVENDOR_QEMU 0x1AF4
#define PCI_SUBSYSTEM_QEMU 0x1100

struct pci_msix {
    unsigned vectors;
    uint64_t pba_offset; /* of the pending bits in the BAR */
    uint8_t *table;      /* vectors * 16 bytes, little-endian as in the BAR */
    uint8_t *pending;    /* a bit a vector, whole quadwords */
};

/* ---- the chipset's common struct ---- */

EMU_PRIV struct chipset *chipset_get(struct emu *e)
{
    if (!e->chipset)
        e->chipset = emu_alloc(e, sizeof(struct chipset));
    return e->chipset;
}

EMU_PRIV void chipset_free(struct emu *e)
{
    emu_free(e, e->chipset);
    e->chipset = NULL;
}

/* ---- INTx ---- */

static void pci_update_intx(struct pci_device *d)
{
    unsigned pin = d->config[PCI_INT_PIN], line;
    bool on = (d->intx_level & PCI_INTX_LEVEL) && !(ld16le(d->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
    bool counted = (d->intx_level & PCI_INTX_COUNTED) != 0;
    if (!pin || pin > 4 || !d->bus || on == counted)
        return;
    line = ((unsigned)(d->devfn >> 3) + 3 + (pin - 1)) & 3; /* slot - 1 + pin, pins from 0 */
    d->intx_level ^= PCI_INTX_COUNTED;
    if (on) {
        if (d->bus->intx_count[line]++ == 0)
            irq_set(&d->bus->intx[line], 1);
    } else if (--d->bus->intx_count[line] == 0) {
        irq_set(&d->bus->intx[line], 0);
    }
}

EMU_PRIV void pci_set_intx(struct pci_device *d, int level)
{
    d->intx_level = (uint8_t)((d->intx_level & ~PCI_INTX_LEVEL) | (level ? PCI_INTX_LEVEL : 0));
    pci_update_intx(d);
}

/* ---- base address registers ---- */

static unsigned pci_bar_offset(unsigned bar) { return bar == 6 ? PCI_ROM_BAR : PCI_BAR0 + 4 * bar; }

/* Where the BAR is decoded, or false: nowhere now. */
static bool pci_bar_address(const struct pci_device *d, unsigned i, uint64_t *address)
{
    const struct pci_bar *b = &d->bars[i];
    const uint8_t *reg = d->config + pci_bar_offset(i);
    unsigned command = ld16le(d->config + PCI_COMMAND);
    uint64_t a, limit = b->io ? 0xFFFF : b->mem64 ? UINT64_C(0xFFFFFFFFFFFF) : UINT64_C(0xFFFFFFFE);
    if (!(command & (b->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) || (i == 6 && !(reg[0] & 1)))
        return false;
    a = ld32le(reg);
    if (b->mem64)
        a |= (uint64_t)ld32le(reg + 4) << 32;
    a &= ~(b->size - 1);
    *address = a;
    return a != 0 && a <= limit && b->size - 1 <= limit - a;
}

static void pci_update_mappings(struct pci_device *d)
{
    struct emu *e = d->dev.emu;
    unsigned i;
    for (i = 0; i < EMU_ARRAY_LEN(d->bars); i++) {
        struct pci_bar *b = &d->bars[i];
        uint64_t address = 0;
        bool on;
        if (!b->present)
            continue;
        on = pci_bar_address(d, i, &address);
        region_set(e, b->io ? &e->ports : &e->memory, &b->region, on ? address : b->region.base, on);
    }
}

static void pci_add_bar(struct pci_device *d, unsigned bar, uint64_t size)
{
    struct emu *e = d->dev.emu;
    struct pci_bar *b = &d->bars[bar];
    uint8_t *reg = d->config + pci_bar_offset(bar), *mask = d->wmask + pci_bar_offset(bar);
    b->size = size;
    b->present = true;
    if (bar == 6) {
        st32le(mask, (uint32_t)(~(size - 1) | 1));
    } else {
        st32le(reg, b->io ? 1u : (b->mem64 ? 4u : 0u) | (b->prefetch ? 8u : 0u));
        st32le(mask, (uint32_t)~(size - 1) & (b->io ? 0xFFFFFFFCu : 0xFFFFFFF0u));
        if (b->mem64)
            st32le(mask + 4, (uint32_t)(~(size - 1) >> 32));
    }
    region_add(e, b->io ? &e->ports : &e->memory, &b->region, 0, b->io ? 0 : MAP_PRIO_BAR);
    region_set(e, b->io ? &e->ports : &e->memory, &b->region, 0, false);
}

/* size: a power of two, at least 4 (ports) or 16 (memory). For a 64-bit BAR the caller sets d->bars[bar].mem64 before. */
EMU_PRIV void pci_add_bar_io(struct pci_device *d, unsigned bar, const char *name, uint64_t size, bool port_space, const struct region_ops *ops, void *opaque)
{
    struct pci_bar *b = &d->bars[bar];
    b->io = port_space;
    region_init_io(&b->region, name, ops, opaque, size);
    pci_add_bar(d, bar, size);
}

EMU_PRIV void pci_add_bar_ram(struct pci_device *d, unsigned bar, struct ram_block *block, bool prefetch)
{
    struct pci_bar *b = &d->bars[bar];
    uint64_t size = 4096;
    while (size < block->size_bytes)
        size *= 2;
    b->prefetch = prefetch;
    region_init_ram(&b->region, block->name, block, 0, block->size_bytes);
    if (block->rom)
        b->region.access = REGION_READS;
    pci_add_bar(d, bar, size);
}

/* ---- configuration space ---- */

EMU_PRIV uint32_t pci_config_read(struct pci_device *d, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    unsigned i;
    for (i = 0; i < size && offset + i < sizeof d->config; i++) {
        uint8_t byte = d->config[offset + i];
        if (offset + i == PCI_STATUS && (d->intx_level & PCI_INTX_LEVEL))
            byte |= PCI_STATUS_INT;
        value |= (uint32_t)byte << (8 * i);
    }
    return value;
}

static void pci_msix_unmasked(struct pci_device *d);

EMU_PRIV void pci_config_write(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
    unsigned i;
    for (i = 0; i < size && offset + i < sizeof d->config; i++) {
        unsigned o = offset + i;
        uint8_t byte = (uint8_t)(value >> (8 * i));
        d->config[o] = (uint8_t)((d->config[o] & ~d->wmask[o]) | (byte & d->wmask[o]));
        d->config[o] &= (uint8_t)~(byte & d->w1c[o]);
    }
    if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND)
        pci_update_intx(d);
    if (offset < PCI_ROM_BAR + 4 && offset + size > PCI_COMMAND)
        pci_update_mappings(d);
    if (d->msix_cap && offset <= (unsigned)d->msix_cap + 3 && offset + size > (unsigned)d->msix_cap + 3)
        pci_msix_unmasked(d);
}

static struct pci_device *pci_selected(const struct pci_bus *bus)
{
    if (!(bus->address & 0x80000000u) || (bus->address & 0x00FF0000u))
        return NULL;
    return bus->devices[(bus->address >> 8) & 0xFF];
}

static uint64_t pci_data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_bus *bus = opaque;
    struct pci_device *d = pci_selected(bus);
    unsigned reg = (bus->address & 0xFC) | (unsigned)offset;
    if (!d)
        return UINT64_MAX;
    return d->config_read ? d->config_read(d, reg, size) : pci_config_read(d, reg, size);
}

static void pci_data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_bus *bus = opaque;
    struct pci_device *d = pci_selected(bus);
    unsigned reg = (bus->address & 0xFC) | (unsigned)offset;
    if (!d)
        return;
    if (d->config_write)
        d->config_write(d, reg, (uint32_t)value, size);
    else
        pci_config_write(d, reg, (uint32_t)value, size);
}

/* CF8h takes whole dwords only (§3.2.2.3.2); a byte at CF9h is the PIIX3's reset control register. */
static uint64_t pci_address_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_bus *bus = opaque;
    if (offset == 0 && size == 4)
        return bus->address;
    if (offset == 1 && size == 1)
        return piix3_read_reset_control(bus->emu);
    return UINT64_MAX;
}

static void pci_address_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_bus *bus = opaque;
    if (offset == 0 && size == 4)
        bus->address = (uint32_t)value & 0x80FFFFFCu;
    else if (offset == 1 && size == 1)
        piix3_reset_control(bus->emu, (uint8_t)value);
}

static const struct region_ops pci_address_ops = { pci_address_read, pci_address_write, 1, 4, true };
static const struct region_ops pci_data_ops = { pci_data_read, pci_data_write, 1, 4, true };

/* ---- devices on the bus ---- */

EMU_PRIV int pci_parse_devfn(struct options *opts, int *devfn, struct err *err)
{
    const char *text = opts ? options_get(opts, "addr") : NULL, *p = text, *bus = opts ? options_get(opts, "bus") : NULL;
    unsigned slot = 0, function = 0, digits = 0;
    if (bus && strcmp(bus, "pci.0") && strcmp(bus, "pci"))
        return err_set(err, EMU_EINVAL, "%s: bus=%s: there is no such bus; the machine has one, pci.0", opts->origin, bus);
    if (!text)
        return 0;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
        p += 2;
    for (; digits < 2; digits++, p++) {
        const char *hex = "0123456789abcdef", *at;
        char c = *p >= 'A' && *p <= 'F' ? (char)(*p - 'A' + 'a') : *p;
        if (!c || !(at = strchr(hex, c)))
            break;
        slot = slot * 16 + (unsigned)(at - hex);
    }
    if (digits && p[0] == '.' && p[1] >= '0' && p[1] <= '7') {
        function = (unsigned)(p[1] - '0');
        p += 2;
    }
    if (!digits || *p || slot > 31)
        return err_set(err, EMU_EINVAL, "%s: addr=%s: not a PCI address; write slot or slot.function in hex, 00 to 1f.7", opts->origin, text);
    *devfn = (int)(slot * 8 + function);
    return 0;
}

static int pci_free_slot(const struct pci_bus *bus)
{
    int slot, function;
    for (slot = 2; slot < 32; slot++) {
        for (function = 0; function < 8 && !bus->devices[slot * 8 + function]; function++)
            ;
        if (function == 8)
            return slot * 8;
    }
    return -1;
}

EMU_PRIV int pci_device_init(struct pci_device *d, int devfn, uint16_t vendor, uint16_t device, uint32_t class_rev, struct err *err)
{
    struct pci_bus *bus = d->dev.emu->pci;
    if (!bus)
        return err_set(err, EMU_EINVAL, "%s: this machine has no PCI bus", d->dev.cls->name);
    if (devfn < 0)
        devfn = pci_free_slot(bus);
    if (devfn < 0 || devfn > 255)
        return err_set(err, EMU_ENOSPC, "%s: no PCI slot is free", d->dev.cls->name);
    if (bus->devices[devfn])
        return err_set(err, EMU_EBUSY, "%s: PCI address %02x.%d is taken by %s", d->dev.cls->name, devfn >> 3, devfn & 7,
                       bus->devices[devfn]->dev.cls->name);
    d->bus = bus;
    d->devfn = (uint8_t)devfn;
    bus->devices[devfn] = d;
    st16le(d->config, vendor);
    st16le(d->config + 2, device);
    st32le(d->config + 8, class_rev);
    pci_set_subsystem(d, PCI_SUBVENDOR_QEMU, PCI_SUBSYSTEM_QEMU);
    st16le(d->wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
    st16le(d->w1c + PCI_STATUS, 0xF900);
    d->wmask[PCI_CACHE_LINE] = 0xFF;
    d->wmask[PCI_INT_LINE] = 0xFF;
    memset(d->wmask + 0x40, 0xFF, sizeof d->wmask - 0x40);
    return 0;
}

EMU_PRIV void pci_set_subsystem(struct pci_device *d, uint16_t vendor, uint16_t device)
{
    st16le(d->config + PCI_SUBSYSTEM, vendor);
    st16le(d->config + PCI_SUBSYSTEM + 2, device);
}

/* Capabilities lie one behind the other from 40h on. The whole of a new one is read-only. Returns its offset, 0: full. */
EMU_PRIV unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned size)
{
    unsigned at = d->cap_end ? d->cap_end : 0x40;
    size = (size + 3) & ~3u;
    if (at + size > sizeof d->config)
        return 0;
    d->cap_end = (uint16_t)(at + size);
    memset(d->wmask + at, 0, size);
    memset(d->config + at, 0, size);
    d->config[at] = id;
    d->config[at + 1] = d->config[PCI_CAP_POINTER];
    d->config[PCI_CAP_POINTER] = (uint8_t)at;
    d->config[PCI_STATUS] |= PCI_STATUS_CAPS;
    return at;
}

EMU_PRIV void pci_device_reset(struct pci_device *d)
{
    unsigned i;
    d->intx_level &= (uint8_t)~PCI_INTX_LEVEL;
    pci_update_intx(d);
    st16le(d->config + PCI_COMMAND, 0);
    d->config[PCI_CACHE_LINE] = 0;
    d->config[PCI_INT_LINE] = 0;
    for (i = 0; i < EMU_ARRAY_LEN(d->bars); i++)
        if (d->bars[i].present) {
            unsigned o = pci_bar_offset(i), n = d->bars[i].mem64 ? 8 : 4, k;
            for (k = 0; k < n; k++)
                d->config[o + k] &= (uint8_t)~d->wmask[o + k];
        }
    if (d->msi_cap)
        for (i = PCI_MSI_CTL; i < PCI_MSI_SIZE; i++)
            d->config[d->msi_cap + i] &= (uint8_t)~d->wmask[d->msi_cap + i];
    if (d->msix) {
        d->config[d->msix_cap + PCI_MSIX_CTL + 1] &= 0x3F;
        memset(d->msix->table, 0, (size_t)d->msix->vectors * PCI_MSIX_ENTRY);
        memset(d->msix->pending, 0, (d->msix->vectors + 63) / 64 * 8);
        for (i = 0; i < d->msix->vectors; i++)
            d->msix->table[i * PCI_MSIX_ENTRY + 12] = PCI_MSIX_ENTRY_MASKED;
    }
    pci_update_mappings(d);
}

EMU_PRIV void pci_device_remove(struct pci_device *d)
{
    struct emu *e = d->dev.emu;
    unsigned i;
    if (!d->bus)
        return;
    pci_set_intx(d, 0);
    for (i = 0; i < EMU_ARRAY_LEN(d->bars); i++)
        if (d->bars[i].present)
            region_remove(e, d->bars[i].io ? &e->ports : &e->memory, &d->bars[i].region);
    if (d->msix) {
        emu_free(e, d->msix->table);
        emu_free(e, d->msix->pending);
        emu_free(e, d->msix);
        d->msix = NULL;
    }
    d->bus->devices[d->devfn] = NULL;
    d->bus = NULL;
}

/* ---- MSI (§6.8.1): 64-bit addresses, no masking per vector ---- */

EMU_PRIV int pci_add_msi(struct pci_device *d, unsigned vectors)
{
    unsigned log2 = 0, at = pci_add_capability(d, PCI_CAP_MSI, PCI_MSI_SIZE);
    if (!at || !vectors || vectors > 32)
        return EMU_ENOSPC;
    while ((1u << log2) < vectors)
        log2++;
    d->msi_cap = (uint16_t)at;
    st16le(d->config + at + PCI_MSI_CTL, (uint16_t)(PCI_MSI_64BIT | (log2 << 1)));
    st16le(d->wmask + at + PCI_MSI_CTL, PCI_MSI_ENABLE | (7 << 4));
    st32le(d->wmask + at + PCI_MSI_ADDR, 0xFFFFFFFCu);
    st32le(d->wmask + at + PCI_MSI_ADDR_HIGH, 0xFFFFFFFFu);
    st16le(d->wmask + at + PCI_MSI_DATA, 0xFFFF);
    return 0;
}

EMU_PRIV bool pci_msi_enabled(const struct pci_device *d)
{
    return d->msi_cap && (d->config[d->msi_cap + PCI_MSI_CTL] & PCI_MSI_ENABLE);
}

static void pci_send_message(struct pci_device *d, uint64_t address, uint32_t data)
{
    if (!pci_bus_master(d))
        return; /* a message is a memory write, which needs bus mastering */
    if ((address >> 20) == 0xFEE)
        apic_deliver_msi(d->dev.emu, address, data);
    else
        mem_st(d->dev.emu, address, data, 4);
}

EMU_PRIV void pci_msi_send(struct pci_device *d, unsigned vector)
{
    const uint8_t *cap = d->config + d->msi_cap;
    unsigned granted = 1u << EMU_MIN((unsigned)(cap[PCI_MSI_CTL] >> 4) & 7, 5u); /* vectors the guest gave */
    if (!pci_msi_enabled(d))
        return;
    pci_send_message(d, ld32le(cap + PCI_MSI_ADDR) | (uint64_t)ld32le(cap + PCI_MSI_ADDR_HIGH) << 32,
                     (ld16le(cap + PCI_MSI_DATA) & ~(granted - 1)) | (vector & (granted - 1)));
}

/* ---- MSI-X (§6.8.2) ---- */

EMU_PRIV bool pci_msix_enabled(const struct pci_device *d)
{
    return d->msix && (ld16le(d->config + d->msix_cap + PCI_MSIX_CTL) & PCI_MSIX_ENABLE);
}

static bool pci_msix_masked(const struct pci_device *d, unsigned vector)
{
    return (ld16le(d->config + d->msix_cap + PCI_MSIX_CTL) & PCI_MSIX_MASK_ALL) ||
           (d->msix->table[vector * PCI_MSIX_ENTRY + 12] & PCI_MSIX_ENTRY_MASKED);
}

EMU_PRIV void pci_msix_send(struct pci_device *d, unsigned vector)
{
    const uint8_t *entry;
    if (!pci_msix_enabled(d) || vector >= d->msix->vectors)
        return;
    entry = d->msix->table + (size_t)vector * PCI_MSIX_ENTRY;
    if (pci_msix_masked(d, vector)) {
        d->msix->pending[vector / 8] |= (uint8_t)(1u << (vector & 7));
        return;
    }
    d->msix->pending[vector / 8] &= (uint8_t)~(1u << (vector & 7));
    pci_send_message(d, ld64le(entry), ld32le(entry + 8));
}

/* Sends what waited for a mask to go. */
static void pci_msix_unmasked(struct pci_device *d)
{
    unsigned v;
    if (!pci_msix_enabled(d))
        return;
    for (v = 0; v < d->msix->vectors; v++)
        if (((d->msix->pending[v / 8] >> (v & 7)) & 1) && !pci_msix_masked(d, v))
            pci_msix_send(d, v);
}

static uint64_t pci_msix_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_device *d = opaque;
    struct pci_msix *m = d->msix;
    uint64_t table = (uint64_t)m->vectors * PCI_MSIX_ENTRY, pba = (m->vectors + 63) / 64 * 8;
    if (offset + size <= table)
        return ldn_le(m->table + offset, size);
    if (offset >= m->pba_offset && offset - m->pba_offset + size <= pba)
        return ldn_le(m->pending + (offset - m->pba_offset), size);
    return 0;
}

static void pci_msix_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_device *d = opaque;
    struct pci_msix *m = d->msix;
    if (offset + size > (uint64_t)m->vectors * PCI_MSIX_ENTRY)
        return; /* pending bits are read-only */
    stn_le(m->table + offset, value, size);
    pci_msix_unmasked(d);
}

static const struct region_ops pci_msix_ops = { pci_msix_read, pci_msix_write, 4, 8, false };

EMU_PRIV int pci_add_msix_bar(struct pci_device *d, unsigned bar, unsigned vectors)
{
    struct emu *e = d->dev.emu;
    struct pci_msix *m;
    uint64_t half = 2048;
    unsigned at;
    if (!vectors || vectors > 2048)
        return EMU_EINVAL;
    while (half < (uint64_t)vectors * PCI_MSIX_ENTRY)
        half *= 2;
    m = emu_alloc(e, sizeof *m);
    if (!m)
        return EMU_ENOMEM;
    m->table = emu_alloc(e, (size_t)vectors * PCI_MSIX_ENTRY);
    m->pending = emu_alloc(e, (vectors + 63) / 64 * 8);
    at = m->table && m->pending ? pci_add_capability(d, PCI_CAP_MSIX, PCI_MSIX_SIZE) : 0;
    if (!at) {
        emu_free(e, m->table);
        emu_free(e, m->pending);
        emu_free(e, m);
        return EMU_ENOMEM;
    }
    m->vectors = vectors;
    m->pba_offset = half;
    d->msix = m;
    d->msix_cap = (uint16_t)at;
    st16le(d->config + at + PCI_MSIX_CTL, (uint16_t)(vectors - 1));
    st16le(d->wmask + at + PCI_MSIX_CTL, PCI_MSIX_ENABLE | PCI_MSIX_MASK_ALL);
    st32le(d->config + at + PCI_MSIX_TABLE, bar);
    st32le(d->config + at + PCI_MSIX_PBA, (uint32_t)half | bar);
    pci_add_bar_io(d, bar, "msix", half * 2, false, &pci_msix_ops, d);
    return 0;
}

EMU_PRIV void pci_notify(struct pci_device *d, unsigned vector, int intx_level)
{
    if (pci_msix_enabled(d)) {
        if (intx_level)
            pci_msix_send(d, vector);
    } else if (pci_msi_enabled(d)) {
        if (intx_level)
            pci_msi_send(d, vector);
    } else {
        pci_set_intx(d, intx_level);
    }
}

/* ---- the bus ---- */

EMU_PRIV int pci_bus_create(struct emu *e, struct err *err)
{
    struct pci_bus *bus;
    if (e->pci)
        return 0;
    bus = emu_alloc(e, sizeof *bus);
    if (!bus || !chipset_get(e)) {
        emu_free(e, bus);
        return err_set(err, EMU_ENOMEM, "out of memory");
    }
    bus->emu = e;
    e->pci = bus;
    port_add(e, &bus->cf8, "pci-address", 0xCF8, 4, &pci_address_ops, bus);
    port_add(e, &bus->cfc, "pci-data", 0xCFC, 4, &pci_data_ops, bus);
    return 0;
}

EMU_PRIV void pci_bus_destroy(struct emu *e)
{
    if (!e->pci)
        return;
    region_remove(e, &e->ports, &e->pci->cf8);
    region_remove(e, &e->ports, &e->pci->cfc);
    emu_free(e, e->pci);
    e->pci = NULL;
}

static const char *pci_class_name(unsigned class_code)
{
    static const struct { uint16_t code; const char *name; } names[] = {
        { 0x0100, "SCSI controller" }, { 0x0101, "IDE controller" }, { 0x0106, "SATA controller" }, { 0x0108, "NVMe controller" },
        { 0x0200, "Ethernet controller" }, { 0x0300, "VGA controller" }, { 0x0401, "Audio controller" }, { 0x0600, "Host bridge" },
        { 0x0601, "ISA bridge" }, { 0x0604, "PCI bridge" }, { 0x0680, "Bridge" }, { 0x0780, "Communication controller" }, { 0x0C03, "USB controller" },
    };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(names); i++)
        if (names[i].code == class_code)
            return names[i].name;
    return NULL;
}

static void pci_print_bar(const struct pci_device *d, unsigned i, struct buf *out)
{
    const struct pci_bar *b = &d->bars[i];
    uint64_t address = 0;
    if (!b->present)
        return;
    if (!pci_bar_address(d, i, &address))
        buf_printf(out, "      BAR%u: %s of %" PRIu64 " bytes, not mapped.\n", i, b->io ? "I/O" : "memory", b->size);
    else if (b->io)
        buf_printf(out, "      BAR%u: I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n", i, address, address + b->size - 1);
    else
        buf_printf(out, "      BAR%u: %d bit %smemory at 0x%08" PRIx64 " [0x%08" PRIx64 "].\n", i, b->mem64 ? 64 : 32,
                   b->prefetch ? "prefetchable " : "", address, address + b->size - 1);
}

EMU_PRIV void pci_print_info(struct emu *e, struct buf *out)
{
    unsigned i, k;
    for (i = 0; e->pci && i < EMU_ARRAY_LEN(e->pci->devices); i++) {
        const struct pci_device *d = e->pci->devices[i];
        const char *name;
        if (!d)
            continue;
        name = pci_class_name(ld16le(d->config + 10));
        buf_printf(out, "  Bus  0, device %3u, function %u:\n", i >> 3, i & 7);
        if (name)
            buf_printf(out, "    %s", name);
        else
            buf_printf(out, "    Class %04x", ld16le(d->config + 10));
        buf_printf(out, ": PCI device %04x:%04x\n      PCI subsystem %04x:%04x\n", ld16le(d->config), ld16le(d->config + 2),
                   ld16le(d->config + PCI_SUBSYSTEM), ld16le(d->config + PCI_SUBSYSTEM + 2));
        if (d->config[PCI_INT_PIN])
            buf_printf(out, "      IRQ %u, pin %c\n", d->config[PCI_INT_LINE], '@' + d->config[PCI_INT_PIN]);
        for (k = 0; k < EMU_ARRAY_LEN(d->bars); k++)
            pci_print_bar(d, k, out);
        buf_printf(out, "      id \"%s\"\n", d->dev.id ? d->dev.id : "");
    }
}
#undef PCI_SUBVENDOR_QEMU
#undef PCI_SUBSYSTEM_QEMU
