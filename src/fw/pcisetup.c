/* fw/pcisetup.c - what firmware does to PCI at power-on, and the PCI BIOS calls.
 *
 * Models     PCI BIOS 2.1 (INT 1Ah AX=B1xxh); PIIX3 PIRQ routing 290550-002 §2.2; register values that QEMU's pc has after its firmware.
 * Contract   bios.c calls pcisetup_run() before any other table is made; bios_misc.c passes INT 1Ah/B1h on.
 * Theory     All access goes through CF8h/CFCh, as a guest's would. BARs are sized by writing ones; I/O grows upward from C000h; memory
 *            is packed below FEC00000h: first what is not prefetchable, then, below it, what is, each sorted by size, so that the addresses
 *            are those that QEMU's guests see.
 * Invariants 1. Every BAR is aligned to its size; no two overlap; none reaches the IO-APIC at FEC00000h.
 *            2. Slot s, pin p is wired to PIRQ (s - 1 + p - 1) & 3, at IRQ 10, 10, 11, 11.
 * Missing    Bridges (one bus), resources that do not fit (left unassigned and logged).
 */
#include "../machine.h"
#include "../dev/dev.h"
#include "fw.h"

#define PCI_MEM_END 0xFEC00000u
enum { PCI_IO_START = 0xC000, PCI_MAX_BARS = 256 };

static uint32_t pcisetup_read(struct emu *e, unsigned devfn, unsigned offset, unsigned size)
{
    port_write(e, 0xCF8, 0x80000000u | devfn << 8 | (offset & 0xFC), 4);
    return (uint32_t)port_read(e, (uint16_t)(0xCFC + (offset & 3)), size);
}
static void pcisetup_write(struct emu *e, unsigned devfn, unsigned offset, uint32_t value, unsigned size)
{
    port_write(e, 0xCF8, 0x80000000u | devfn << 8 | (offset & 0xFC), 4);
    port_write(e, (uint16_t)(0xCFC + (offset & 3)), value, size);
}

EMU_PRIV uint8_t pcisetup_irq(unsigned slot, unsigned pin)
{
    static const uint8_t irqs[4] = { 10, 10, 11, 11 };
    return pin ? irqs[(slot - 1 + pin - 1) & 3] : 0;
}

struct pcisetup_bar {
    uint8_t devfn, offset;
    uint8_t kind; /* 0 I/O, 1 memory, 2 prefetchable memory */
    bool wide;    /* 64-bit */
    uint32_t size, base;
};

static unsigned pcisetup_collect(struct emu *e, struct pcisetup_bar *bars)
{
    unsigned devfn, n = 0, offset;
    for (devfn = 0; devfn < 256; devfn++) {
        if (pcisetup_read(e, devfn, 0, 2) == 0xFFFF)
            continue;
        pcisetup_write(e, devfn, 4, pcisetup_read(e, devfn, 4, 2) & ~7u, 2);
        for (offset = 0x10; offset <= 0x30; offset += 4) {
            struct pcisetup_bar *b = &bars[n];
            uint32_t old, mask;
            if (offset == 0x28)
                offset = 0x30;
            old = pcisetup_read(e, devfn, offset, 4);
            pcisetup_write(e, devfn, offset, offset == 0x30 ? 0xFFFFF800u : 0xFFFFFFFFu, 4);
            mask = pcisetup_read(e, devfn, offset, 4);
            pcisetup_write(e, devfn, offset, old, 4);
            if (!mask || n == PCI_MAX_BARS)
                continue;
            memset(b, 0, sizeof *b);
            b->devfn = (uint8_t)devfn;
            b->offset = (uint8_t)offset;
            if (offset != 0x30 && (mask & 1)) {
                b->kind = 0;
                b->size = ((~(mask & ~3u)) & 0xFFFF) + 1;
            } else {
                b->kind = offset != 0x30 && (mask & 8) ? 2 : 1;
                b->wide = offset != 0x30 && (mask & 6) == 4;
                b->size = ~(mask & (offset == 0x30 ? 0xFFFFF800u : ~15u)) + 1;
            }
            if (b->size)
                n++;
            if (b->wide)
                offset += 4;
        }
    }
    return n;
}

/* Largest first, then in the order of devices. */
static void pcisetup_sort(struct pcisetup_bar *bars, unsigned n)
{
    unsigned i, k;
    for (i = 1; i < n; i++)
        for (k = i; k && bars[k - 1].size < bars[k].size; k--) {
            struct pcisetup_bar t = bars[k];
            bars[k] = bars[k - 1];
            bars[k - 1] = t;
        }
}

/* One memory kind, packed so that it ends at or below `end`. Returns its start. */
static uint32_t pcisetup_place_memory(struct pcisetup_bar *bars, unsigned n, unsigned kind, uint32_t end)
{
    uint64_t sum = 0;
    uint32_t align = 0x1000, at;
    unsigned i;
    for (i = 0; i < n; i++)
        if (bars[i].kind == kind) {
            sum += EMU_MAX(bars[i].size, 0x1000u);
            align = EMU_MAX(align, bars[i].size);
        }
    if (!sum || sum > end)
        return end;
    at = (uint32_t)(end - sum) & ~(align - 1);
    end = at;
    for (i = 0; i < n; i++)
        if (bars[i].kind == kind) {
            bars[i].base = at;
            at += EMU_MAX(bars[i].size, 0x1000u);
        }
    return end;
}

static void pcisetup_assign(struct fw *fw)
{
    struct emu *e = fw->emu;
    struct pcisetup_bar *bars = emu_alloc(e, PCI_MAX_BARS * sizeof *bars);
    unsigned n, i;
    uint32_t io = PCI_IO_START, start;
    if (!bars)
        return;
    n = pcisetup_collect(e, bars);
    pcisetup_sort(bars, n);
    start = pcisetup_place_memory(bars, n, 1, PCI_MEM_END);
    start = pcisetup_place_memory(bars, n, 2, start);
    if (start < e->ram_below_4g)
        emu_log(e, LOG_NOTICE, "PCI memory needs more room than there is above RAM; use less -m or fewer devices");
    for (i = 0; i < n; i++) {
        struct pcisetup_bar *b = &bars[i];
        if (b->kind == 0) {
            io = (io + b->size - 1) & ~(b->size - 1);
            if (io + b->size > 0xFFFF)
                continue;
            b->base = io;
            io += b->size;
        } else if (!b->base || b->base < e->ram_below_4g)
            continue;
        pcisetup_write(e, b->devfn, b->offset, b->base, 4);
        if (b->wide)
            pcisetup_write(e, b->devfn, b->offset + 4u, 0, 4);
    }
    emu_free(e, bars);
}

/* Chips of the PC's own: power management and SMBus bases, IDE decoding, interrupt routing. */
static void pcisetup_chip(struct emu *e, unsigned devfn, uint32_t id)
{
    static const uint8_t routes[4] = { 10, 10, 11, 11 };
    unsigned i;
    switch (id) {
    case 0x70008086: /* PIIX3 ISA bridge */
        for (i = 0; i < 4; i++)
            pcisetup_write(e, devfn, 0x60 + i, routes[i], 1);
        port_write(e, 0x4D0, 0, 1);
        port_write(e, 0x4D1, 0x0C, 1); /* IRQ 10 and 11 are level triggered */
        break;
    case 0x70108086: /* PIIX3 IDE: both channels decode */
        pcisetup_write(e, devfn, 0x40, 0x8000, 2);
        pcisetup_write(e, devfn, 0x42, 0x8000, 2);
        break;
    case 0x71138086: /* PIIX4 power management */
        pcisetup_write(e, devfn, 0x40, 0x0600 | 1, 4);
        pcisetup_write(e, devfn, 0x80, 1, 1);
        pcisetup_write(e, devfn, 0x90, 0x0700 | 1, 4);
        pcisetup_write(e, devfn, 0xD2, 0x09, 1);
        break;
    default: break;
    }
}

EMU_PRIV void pcisetup_run(struct fw *fw)
{
    struct emu *e = fw->emu;
    unsigned devfn;
    if (!e->pci)
        return;
    pcisetup_assign(fw);
    for (devfn = 0; devfn < 256; devfn++) {
        uint32_t id = pcisetup_read(e, devfn, 0, 4);
        unsigned pin;
        if ((id & 0xFFFF) == 0xFFFF)
            continue;
        pin = pcisetup_read(e, devfn, 0x3D, 1);
        if (pin >= 1 && pin <= 4)
            pcisetup_write(e, devfn, 0x3C, id == 0x71138086 ? 9 : pcisetup_irq(devfn >> 3, pin), 1); /* SCI is hardwired */
        pcisetup_chip(e, devfn, id);
        pcisetup_write(e, devfn, 4, pcisetup_read(e, devfn, 4, 2) | 0x0103, 2); /* I/O, memory, SERR */
        if (id == 0x70108086)
            pcisetup_write(e, devfn, 4, pcisetup_read(e, devfn, 4, 2) | 0x0004, 2); /* bus master DMA */
    }
}

/* ================= INT 1Ah, AH=B1h ================= */

enum { PCIBIOS_OK = 0x00, PCIBIOS_UNSUPPORTED = 0x81, PCIBIOS_BAD_VENDOR = 0x83, PCIBIOS_NOT_FOUND = 0x86, PCIBIOS_BAD_REGISTER = 0x87 };

static unsigned pcibios_return(struct fw_regs *r, unsigned status)
{
    fw_put_hi(&r->eax, status);
    fw_set_cf(r, status != PCIBIOS_OK);
    return FW_DONE;
}

static unsigned pcibios_find(struct fw *fw, struct fw_regs *r, bool by_class)
{
    unsigned devfn, left = r->esi & 0xFFFF;
    for (devfn = 0; devfn < 256; devfn++) {
        uint32_t id = pcisetup_read(fw->emu, devfn, 0, 4);
        if ((id & 0xFFFF) == 0xFFFF)
            continue;
        if (by_class ? pcisetup_read(fw->emu, devfn, 8, 4) >> 8 != (r->ecx & 0xFFFFFF) : id != ((r->ecx & 0xFFFF) << 16 | (r->edx & 0xFFFF)))
            continue;
        if (left--)
            continue;
        fw_put_x(&r->ebx, devfn);
        return pcibios_return(r, PCIBIOS_OK);
    }
    return pcibios_return(r, PCIBIOS_NOT_FOUND);
}

EMU_PRIV unsigned fw_pcibios(struct fw *fw, struct fw_regs *r)
{
    unsigned fn = fw_lo(r->eax), bus = fw_hi(r->ebx), devfn = fw_lo(r->ebx), reg = r->edi & 0xFFFF, size;
    if (!fw->emu->pci) {
        fw_set_cf(r, true);
        return FW_DONE;
    }
    switch (fn) {
    case 0x01:
        fw_put_x(&r->eax, 0x0001); /* mechanism 1 */
        fw_put_x(&r->ebx, 0x0210);
        fw_put_lo(&r->ecx, 0);
        r->edx = 0x20494350; /* "PCI " */
        r->edi = 0;          /* no protected-mode entry */
        fw_set_cf(r, false);
        return FW_DONE;
    case 0x02:
        if ((r->edx & 0xFFFF) == 0xFFFF)
            return pcibios_return(r, PCIBIOS_BAD_VENDOR);
        return pcibios_find(fw, r, false);
    case 0x03: return pcibios_find(fw, r, true);
    case 0x08: case 0x09: case 0x0A: case 0x0B: case 0x0C: case 0x0D:
        size = 1u << (fn - 8) % 3;
        if (reg > 255 || reg % size)
            return pcibios_return(r, PCIBIOS_BAD_REGISTER);
        if (fn >= 0x0B) {
            if (bus == 0)
                pcisetup_write(fw->emu, devfn, reg, r->ecx, size);
        } else {
            uint32_t v = bus ? 0xFFFFFFFFu : pcisetup_read(fw->emu, devfn, reg, size);
            if (size == 1)
                fw_put_lo(&r->ecx, v);
            else if (size == 2)
                fw_put_x(&r->ecx, v);
            else
                r->ecx = v;
        }
        return pcibios_return(r, PCIBIOS_OK);
    default: return pcibios_return(r, PCIBIOS_UNSUPPORTED);
    }
}
#undef PCI_MEM_END
