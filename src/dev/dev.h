/* dev/dev.h - the PC's devices: their classes, and the calls between chips that are no interrupt line.
 *
 * Contract   board.c lists the classes in its table, creates the chips in the order that it likes and then calls chipset_fill_cmos().
 *            The first chip that is created allocates emu->chipset; board.c frees it (chipset_free) after the last is gone.
 *            A chip that is missing has a NULL here, and every function below copes with that.
 */
#ifndef EMU_DEV_H
#define EMU_DEV_H

#ifdef EMU_AMALGAMATION
#define DEVICE_CLASS_DECLARE(name) static EMU_UNUSED const struct device_class name
#else
#define DEVICE_CLASS_DECLARE(name) extern const struct device_class name
#endif

/* ---- classes: name of the constant, -device name beside it ---- */
DEVICE_CLASS_DECLARE(i440fx_class);         /* i440FX */
DEVICE_CLASS_DECLARE(piix3_class);          /* PIIX3 */
DEVICE_CLASS_DECLARE(piix4_pm_class);       /* PIIX4_PM */
DEVICE_CLASS_DECLARE(port92_class);         /* port92 */
DEVICE_CLASS_DECLARE(pic_class);            /* i8259 */
DEVICE_CLASS_DECLARE(ioapic_class);         /* ioapic */
DEVICE_CLASS_DECLARE(lapic_class);          /* apic: one device for the local APICs of all CPUs */
DEVICE_CLASS_DECLARE(pit_class);            /* i8254 */
DEVICE_CLASS_DECLARE(hpet_class);           /* hpet */
DEVICE_CLASS_DECLARE(rtc_class);            /* mc146818rtc */
DEVICE_CLASS_DECLARE(dma_class);            /* i8237 */
DEVICE_CLASS_DECLARE(fw_cfg_class);         /* fw_cfg */
DEVICE_CLASS_DECLARE(fdc_class);            /* isa-fdc */
DEVICE_CLASS_DECLARE(debugcon_class);       /* isa-debugcon */
DEVICE_CLASS_DECLARE(debug_exit_class);     /* isa-debug-exit */
DEVICE_CLASS_DECLARE(pc_testdev_class);     /* pc-testdev */
DEVICE_CLASS_DECLARE(pci_testdev_class);    /* pci-testdev */

/* ---- the chipset's chips ---- */
struct chipset {
    struct i440fx *i440fx;
    struct piix3 *piix3;
    struct pm *pm;
    struct port92 *port92;
    struct pic_pair *pic;
    struct ioapic *ioapic;
    struct lapic_set *lapics;
    struct pit *pit;
    struct hpet *hpet;
    struct rtc *rtc;
    struct dma *dma;
    struct fdc *fdc;
};
EMU_INLINE struct chipset *chipset_of(const struct emu *e) { return (struct chipset *)e->chipset; }
EMU_PRIV struct chipset *chipset_get(struct emu *e); /* pci.c: allocates it the first time; NULL: out of memory */
EMU_PRIV void chipset_free(struct emu *e);

/* Priorities in the memory map. The highest wins. */
enum chipset_priority {
    MAP_PRIO_RAM = 0,
    MAP_PRIO_HOLE = 0,   /* A0000h-FFFFFh as the PCI bus sees it: nobody; added after RAM, so it hides it */
    MAP_PRIO_BAR = -1,   /* PCI BARs: below RAM, as the host bridge decodes */
    MAP_PRIO_VGA = 1,    /* the legacy window at A0000h */
    MAP_PRIO_ROM = 2,    /* ROM images at C0000h-FFFFFh */
    MAP_PRIO_PAM = 10,   /* shadow RAM over them */
    MAP_PRIO_SMRAM = 20, /* RAM under the VGA window, opened by SMRAM.D_OPEN */
    MAP_PRIO_CHIP = 30   /* IO-APIC, HPET, local APIC */
};

/* ---- interrupt inputs ---- */
/* What board_gsi() lines do: lines 0-15 to the 8259 pair and the IO-APIC (line 0 to pin 2), 16-23 to the IO-APIC. opaque: struct emu. */
EMU_PRIV void chipset_set_gsi(void *emu, int gsi, int level);
EMU_PRIV void pic_set_line(struct emu *e, int line, int level);        /* 0-15; 2 is the cascade and ignored */
EMU_PRIV int pic_acknowledge(struct emu *e);                           /* INTA: a vector, a spurious one if nothing waits */
EMU_PRIV bool pic_intr(struct emu *e);                                 /* the pair's INTR output */
EMU_PRIV void ioapic_set_pin(struct emu *e, int pin, int level);       /* 0-23 */
EMU_PRIV void ioapic_eoi(struct emu *e, uint8_t vector);               /* EOI message of a local APIC */
EMU_PRIV void lapic_set_lint0(struct emu *e, int level);               /* the 8259's INTR, wired to LINT0 of every CPU */
EMU_PRIV void lapic_nmi(struct emu *e);                                /* LINT1 of every CPU: monitor nmi, SERR */
enum apic_delivery { APIC_FIXED = 0, APIC_LOWEST = 1, APIC_SMI = 2, APIC_NMI = 4, APIC_INIT = 5, APIC_STARTUP = 6, APIC_EXTINT = 7 };
EMU_PRIV void apic_deliver(struct emu *e, uint32_t dest, bool logical, unsigned delivery, uint8_t vector, bool level_triggered);
EMU_PRIV void piix3_set_pirq(void *piix3, int pirq, int level);        /* PIRQ A-D; emu->pci->intx lines end here */
EMU_PRIV void chipset_set_ferr(struct emu *e, bool on);                /* CPU's FERR#: IRQ 13 until port F0h is written */
/* IRQ 0 of the PIT and IRQ 8 of the RTC pass the HPET, which takes their place in legacy replacement mode. */
EMU_PRIV void hpet_pass_legacy(struct emu *e, int line, int level);

/* ---- reset, A20, power ---- */
EMU_PRIV void chipset_set_a20(struct emu *e, bool on); /* last writer (port 92h, keyboard controller) wins */
EMU_PRIV bool chipset_get_a20(const struct emu *e);
EMU_PRIV void piix3_reset_control(struct emu *e, uint8_t value); /* write to CF9h */
EMU_PRIV uint8_t piix3_read_reset_control(struct emu *e);
EMU_PRIV void piix4_pm_apm_command(struct emu *e, uint8_t value); /* write to B2h */

/* ---- PIT and speaker ---- */
EMU_PRIV void pit_set_gate(struct emu *e, unsigned channel, bool on);

/* ---- RTC ---- */
/* Memory sizes, boot order, drive types, equipment: what SeaBIOS and DOS look for. After all drives are known. */
EMU_PRIV void chipset_set_boot_order(struct emu *e); /* into CMOS, for SeaBIOS */
EMU_PRIV void chipset_fill_cmos(struct emu *e);
EMU_PRIV unsigned fdc_drive_type(struct emu *e, unsigned drive); /* CMOS code: 0 none, 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M */

/* ---- PCI: more than machine.h has ---- */
EMU_PRIV void pci_bus_destroy(struct emu *e); /* by the host bridge, which is destroyed last */
EMU_PRIV int pci_parse_devfn(struct options *opts, int *devfn, struct err *err); /* addr=slot[.function], hex; unchanged where absent */
/* MSI-X: table and pending bits in a memory BAR of their own. */
EMU_PRIV int pci_add_msix_bar(struct pci_device *d, unsigned bar, unsigned vectors);
EMU_PRIV bool pci_msix_enabled(const struct pci_device *d);
EMU_PRIV void pci_msix_send(struct pci_device *d, unsigned vector);
/* Whichever of MSI-X, MSI and INTx the guest chose: a pulse for the first two, the level for INTx. */
EMU_PRIV void pci_notify(struct pci_device *d, unsigned vector, int intx_level);

/* ---- monitor ---- */
EMU_PRIV void pic_print_info(struct emu *e, struct buf *out);
EMU_PRIV void ioapic_print_info(struct emu *e, struct buf *out);
EMU_PRIV void lapic_print_info(struct emu *e, unsigned cpu, struct buf *out);

/* ==== storage, display, input, serial ==== */
DEVICE_CLASS_DECLARE(uart_class);     /* isa-serial */
DEVICE_CLASS_DECLARE(parallel_class); /* isa-parallel */
DEVICE_CLASS_DECLARE(ps2_class);      /* i8042 */
DEVICE_CLASS_DECLARE(vga_class);      /* VGA */
DEVICE_CLASS_DECLARE(ide_class);      /* piix3-ide */
DEVICE_CLASS_DECLARE(ata_class);      /* ide-hd */
DEVICE_CLASS_DECLARE(atapi_class);    /* ide-cd */

/* ==== network ==== */
DEVICE_CLASS_DECLARE(e1000_class);    /* e1000 */
DEVICE_CLASS_DECLARE(rtl8139_class);  /* rtl8139 */
DEVICE_CLASS_DECLARE(ne2k_class);     /* ne2k_pci */

/* eeprom.c: the cards' 93C46 */
enum { EEPROM93_WORDS = 64 };
struct eeprom93 {
    uint16_t words[EEPROM93_WORDS];
    bool cs, sk, data_out; /* pins; data_out is what the card shows */
    bool reading, write_enabled;
    uint32_t shift;
    unsigned bits; /* taken in since CS rose */
    uint16_t out;
    unsigned out_bits;
    uint8_t address;
};
EMU_PRIV void eeprom93_pins(struct eeprom93 *p, bool cs, bool sk, bool di);

#endif
