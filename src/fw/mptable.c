/* fw/mptable.c - MP configuration table and $PIR interrupt routing table.
 *
 * Models     Intel MultiProcessor Specification 1.4 §4; Microsoft PCI IRQ Routing Table Specification 1.0.
 * Contract   bios.c calls mptable_install() and pir_install() at power-on, after PCI interrupts are assigned.
 * Theory     Both tables are laid out in a local buffer and copied to the F segment, where systems scan for "_MP_" and "$PIR" on 16-byte
 *            boundaries. They describe the same wires as the ACPI tables: ISA interrupts one to one, the timer on pin 2,
 *            PCI interrupts at their ISA numbers, level triggered.
 * Missing    Hot plug, more than one IO-APIC.
 */
#include "../machine.h"
#include "fw.h"

static void mptable_interrupt(uint8_t *p, unsigned type, unsigned flags, unsigned bus, unsigned source, unsigned dest_id, unsigned dest_pin, bool local)
{
    p[0] = local ? 4 : 3;
    p[1] = (uint8_t)type; /* 0 INT, 1 NMI, 3 ExtINT */
    st16le(p + 2, (uint16_t)flags);
    p[4] = (uint8_t)bus;
    p[5] = (uint8_t)source;
    p[6] = (uint8_t)dest_id;
    p[7] = (uint8_t)dest_pin;
}

EMU_PRIV void mptable_install(struct fw *fw)
{
    struct emu *e = fw->emu;
    uint8_t table[44 + 20 * 64 + 8 * 300], floating[16];
    unsigned at = 44, count = 0, i, slot, pin, cpus = EMU_MIN(e->config.cpus ? e->config.cpus : 1u, 64u);
    uint32_t gpa, pci_irqs = 0;
    memset(table, 0, sizeof table);
    memset(floating, 0, sizeof floating);
    for (i = 0; i < cpus; i++, count++, at += 20) {
        uint32_t id[4] = { 0, 0, 0, 0 };
        table[at] = 0;
        table[at + 1] = (uint8_t)i;
        table[at + 2] = 0x14;
        table[at + 3] = (uint8_t)(i ? 1 : 3); /* usable, boot processor */
        id[0] = 0x600, id[3] = 0x201;         /* family 6; FPU, CX8, APIC */
        st32le(table + at + 4, id[0]);
        st32le(table + at + 8, id[3]);
    }
    for (i = 0; i < 2; i++, count++, at += 8) {
        table[at] = 1;
        table[at + 1] = (uint8_t)i;
        memcpy(table + at + 2, i ? "ISA   " : "PCI   ", 6);
    }
    table[at] = 2;
    table[at + 1] = 0; /* IO-APIC id, as in the MADT */
    table[at + 2] = 0x11;
    table[at + 3] = 1;
    st32le(table + at + 4, 0xFEC00000u);
    at += 8, count++;
    for (slot = 1; slot < 32 && e->pci; slot++)
        for (pin = 1; pin <= 4; pin++) {
            struct pci_device *d;
            unsigned fn;
            for (fn = 0; fn < 8; fn++) {
                d = e->pci->devices[slot << 3 | fn];
                if (d && d->config[0x3D] == pin)
                    break;
            }
            if (fn == 8)
                continue;
            pci_irqs |= 1u << d->config[0x3C];
            mptable_interrupt(table + at, 0, 0x000D /* level, active high */, 0, slot << 2 | (pin - 1), 0, d->config[0x3C], false);
            at += 8, count++;
        }
    for (i = 0; i < 16; i++) {
        if (i == 2 || (pci_irqs >> i & 1))
            continue;
        mptable_interrupt(table + at, 0, 0, 1, i, 0, i ? i : 2, false);
        at += 8, count++;
    }
    mptable_interrupt(table + at, 3, 0, 1, 0, 0, 0, true); /* ExtINT on LINT0 of the boot CPU */
    at += 8, count++;
    mptable_interrupt(table + at, 1, 0, 1, 0, 0xFF, 1, true); /* NMI on LINT1 of all */
    at += 8, count++;
    memcpy(table, "PCMP", 4);
    st16le(table + 4, (uint16_t)at);
    table[6] = 4;
    memcpy(table + 8, "EMU     emu PC      ", 20);
    st16le(table + 34, (uint16_t)count);
    st32le(table + 36, 0xFEE00000u);
    table[7] = fw_checksum(table, at);
    gpa = fw_table_low(fw, table, at, 16);
    if (!gpa)
        return;
    memcpy(floating, "_MP_", 4);
    st32le(floating + 4, gpa);
    floating[8] = 1;
    floating[9] = 4;
    floating[10] = fw_checksum(floating, sizeof floating);
    fw->mp_gpa = fw_table_low(fw, floating, sizeof floating, 16);
}

/* Slots 1 to 31; a pin's link value is the PIRQ register (60h-63h) that it ends at. */
EMU_PRIV void pir_install(struct fw *fw)
{
    uint8_t t[32 + 16 * 31];
    unsigned slot, pin, at = 32;
    memset(t, 0, sizeof t);
    for (slot = 1; slot < 32; slot++, at += 16) {
        t[at + 1] = (uint8_t)(slot << 3);
        for (pin = 0; pin < 4; pin++) {
            t[at + 2 + 3 * pin] = (uint8_t)(0x60 + ((slot - 1 + pin) & 3));
            st16le(t + at + 3 + 3 * pin, 0x0C20); /* IRQ 5, 10, 11 */
        }
        t[at + 14] = (uint8_t)(slot > 1 ? slot - 1 : 0);
    }
    memcpy(t, "$PIR", 4);
    st16le(t + 4, 0x0100);
    st16le(t + 6, (uint16_t)at);
    t[9] = 1 << 3; /* router: 00:01.0 */
    st32le(t + 12, 0x122E8086); /* compatible with the PIIX */
    t[31] = fw_checksum(t, at);
    (void)fw_table_low(fw, t, at, 16);
}
