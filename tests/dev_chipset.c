/* dev_chipset.c - the chipset at register level: expectations are those of the data sheets (cited), of the probing code of Linux and SeaBIOS, and for
 * ids and reset values those read from QEMU 7.2's pc.
 *
 * The machine here has memory, ports, virtual time on the instruction clock and the chips, but no CPU: two structs stand for the CPUs and note what
 * they are told. Time moves only by step().
 */
#include "../src/machine.h"
#include "../src/cpu/cpu.h"
#include "../src/dev/dev.h"
#include "test.h"

#define MS NS_PER_MS
#define US NS_PER_US

/* ---- the parts that are not under test ---- */

static struct {
    struct emu e;
    struct cpu cpu[2];
    unsigned requests;
    int exit_status;
    int sipi[2];
    char printed[64];
    size_t printed_size;
    struct blk disk;
    uint8_t *disk_bytes;
    struct chr chr;
    struct timer blk_timer;
    struct blk_request *blk_pending;
} m;

void cpu_set_interrupt(struct cpu *c, unsigned kind, bool on) { c->pending = on ? c->pending | kind : c->pending & ~kind; }
void cpu_send_sipi(struct cpu *c, uint8_t vector) { m.sipi[c->index] = vector; }
uint64_t cpu_tsc(struct cpu *c) { return (uint64_t)emu_now_ns(c->emu) * 2; }
int64_t cpu_tsc_to_ns(struct cpu *c, uint64_t tsc)
{
    (void)c;
    return (int64_t)((tsc + 1) / 2);
}
uint64_t cpu_insn_count(struct cpu *c)
{
    (void)c;
    return 0;
}
struct irq board_gsi(struct emu *e, int gsi)
{
    struct irq irq;
    irq.set = chipset_set_gsi;
    irq.opaque = e;
    irq.line = gsi;
    return irq;
}
void emu_request(struct emu *e, unsigned bits)
{
    (void)e;
    m.requests |= bits;
}
void emu_exit_with(struct emu *e, int status)
{
    (void)e;
    m.exit_status = status;
}
struct blk *blk_find(struct emu *e, const char *id)
{
    (void)e;
    return !strcmp(id, "fd") ? &m.disk : NULL;
}
static void finish_request(void *opaque)
{
    struct blk_request *r = m.blk_pending;
    (void)opaque;
    m.blk_pending = NULL;
    if (r->op == BLK_WRITE)
        memcpy(m.disk_bytes + r->offset, r->iov->base, (size_t)r->size);
    else
        memcpy(r->iov->base, m.disk_bytes + r->offset, (size_t)r->size);
    r->done(r->opaque, 0);
}
void blk_submit(struct blk *b, struct blk_request *r)
{
    m.blk_pending = r;
    timer_arm(&m.blk_timer, emu_now_ns(b->emu) + 50 * US);
}
void blk_cancel(struct blk *b, struct blk_request *r)
{
    (void)b;
    (void)r;
    timer_cancel(&m.blk_timer);
}
struct chr *chr_find(struct emu *e, const char *id)
{
    (void)e;
    return !strcmp(id, "log") ? &m.chr : NULL;
}
int chr_write(struct chr *c, const void *buf, size_t size)
{
    (void)c;
    if (m.printed_size + size < sizeof m.printed)
        memcpy(m.printed + m.printed_size, buf, size);
    m.printed_size += size;
    return (int)size;
}

/* ---- fixture ---- */

static struct device *add(const struct device_class *cls, const char *text)
{
    struct options opts;
    struct err err;
    struct device *d = emu_alloc(&m.e, cls->instance_size);
    d->cls = cls;
    d->emu = &m.e;
    if (options_parse(&opts, &m.e, cls->name, text, NULL, &err) || cls->create(d, &opts, &err)) {
        printf("%s: %s\n", cls->name, err.text);
        emu_free(&m.e, d);
        d = NULL;
    }
    options_free(&opts);
    if (d) {
        d->next = m.e.devices;
        m.e.devices = d;
    }
    return d;
}

static void reset_device(struct device *d)
{
    if (!d)
        return;
    reset_device(d->next);
    if (!strcmp(d->cls->bus, "pci"))
        pci_device_reset((struct pci_device *)(void *)d);
    if (d->cls->reset)
        d->cls->reset(d);
}

static void power_on(uint64_t ram_bytes)
{
    static struct cpu *cpus[2];
    const struct device_class *const list[] = { &i440fx_class, &piix3_class, &pic_class, &ioapic_class, &lapic_class, &pit_class, &hpet_class,
                                                &rtc_class, &dma_class, &port92_class, &piix4_pm_class, &fw_cfg_class };
    struct err err;
    size_t i;
    memset(&m, 0, sizeof m);
    m.sipi[0] = m.sipi[1] = -1;
    m.e.config.icount = true;
    m.e.config.cpus = 2;
    m.e.config.ram_bytes = ram_bytes;
    m.e.config.rtc_base_s = INT64_C(1700000000); /* Tue 2023-11-14 22:13:20 UTC */
    clock_create(&m.e);
    memory_create(&m.e, &err);
    m.e.ram = ram_block_create(&m.e, "ram", ram_bytes, false, &err);
    m.e.ram_below_4g = ram_bytes;
    region_init_ram(&m.e.ram_low, "ram", m.e.ram, 0, ram_bytes);
    region_add(&m.e, &m.e.memory, &m.e.ram_low, 0, MAP_PRIO_RAM);
    timer_init(&m.blk_timer, &m.e, finish_request, NULL);
    for (i = 0; i < EMU_ARRAY_LEN(list); i++)
        add(list[i], "");
    for (i = 0; i < 2; i++) {
        m.cpu[i].emu = &m.e;
        m.cpu[i].index = (unsigned)i;
        m.cpu[i].phys_bits = 40;
        m.cpu[i].features[CPU_X2APIC >> 5] |= 1u << (CPU_X2APIC & 31);
        cpus[i] = &m.cpu[i];
    }
    m.e.cpus = cpus;
    m.e.cpu_count = 2;
    reset_device(m.e.devices);
    m.cpu[0].pending = m.cpu[1].pending = 0;
}

static void power_off(void)
{
    while (m.e.devices) {
        struct device *d = m.e.devices;
        m.e.devices = d->next;
        if (d->cls->destroy)
            d->cls->destroy(d);
        emu_free(&m.e, d);
    }
    chipset_free(&m.e);
    memory_destroy(&m.e);
    clock_destroy(&m.e);
    free(m.disk_bytes);
}

static void step(int64_t ns)
{
    int64_t end = emu_now_ns(&m.e) + ns;
    for (;;) {
        int64_t next = clock_next_deadline(&m.e);
        if (next > end)
            break;
        clock_warp_to(&m.e, next);
        clock_run_timers(&m.e);
    }
    clock_warp_to(&m.e, end);
}

static uint8_t inb(unsigned port) { return (uint8_t)port_read(&m.e, (uint16_t)port, 1); }
static uint16_t inw(unsigned port) { return (uint16_t)port_read(&m.e, (uint16_t)port, 2); }
static uint32_t inl(unsigned port) { return (uint32_t)port_read(&m.e, (uint16_t)port, 4); }
static void outb(unsigned v, unsigned port) { port_write(&m.e, (uint16_t)port, v, 1); }
static void outw(unsigned v, unsigned port) { port_write(&m.e, (uint16_t)port, v, 2); }
static void outl(uint32_t v, unsigned port) { port_write(&m.e, (uint16_t)port, v, 4); }
static uint32_t readl(uint64_t gpa) { return (uint32_t)mem_ld(&m.e, gpa, 4); }
static void writel(uint64_t gpa, uint32_t v) { mem_st(&m.e, gpa, v, 4); }

static uint32_t config_read(unsigned devfn, unsigned reg)
{
    outl(0x80000000u | devfn << 8 | (reg & 0xFC), 0xCF8);
    return inl(0xCFC);
}
static void config_write(unsigned devfn, unsigned reg, uint32_t v, unsigned size)
{
    outl(0x80000000u | devfn << 8 | (reg & 0xFC), 0xCF8);
    port_write(&m.e, (uint16_t)(0xCFC + (reg & 3)), v, size);
}

/* The CPU takes an interrupt if one is offered; -1: none. */
static int take(unsigned cpu)
{
    m.e.current_cpu = &m.cpu[cpu];
    return (m.cpu[cpu].pending & CPU_INT_INTR) ? apic_acknowledge(&m.e, &m.cpu[cpu]) : -1;
}

/* The usual set-up of the 8259 pair: vectors 20h and 28h, everything open. */
static void pic_setup(void)
{
    outb(0x11, 0x20), outb(0x11, 0xA0);
    outb(0x20, 0x21), outb(0x28, 0xA1);
    outb(0x04, 0x21), outb(0x02, 0xA1);
    outb(0x01, 0x21), outb(0x01, 0xA1);
    outb(0x00, 0x21), outb(0x00, 0xA1);
}

#define APIC UINT64_C(0xFEE00000)
static uint32_t apic_read(unsigned cpu, unsigned reg)
{
    m.e.current_cpu = &m.cpu[cpu];
    return readl(APIC + reg);
}
static void apic_write(unsigned cpu, unsigned reg, uint32_t v)
{
    m.e.current_cpu = &m.cpu[cpu];
    writel(APIC + reg, v);
}
static void apic_setup(void)
{
    apic_write(0, 0xF0, 0x1FF);
    apic_write(1, 0xF0, 0x1FF);
    apic_write(0, 0x350, 0x10000);
}
#define IOAPIC UINT64_C(0xFEC00000)
static uint32_t io_read(unsigned reg)
{
    writel(IOAPIC, reg);
    return readl(IOAPIC + 0x10);
}
static void io_write(unsigned reg, uint32_t v)
{
    writel(IOAPIC, reg);
    writel(IOAPIC + 0x10, v);
}
static uint8_t cmos(unsigned reg)
{
    outb(reg, 0x70);
    return inb(0x71);
}
static void cmos_write(unsigned reg, unsigned v)
{
    outb(reg, 0x70);
    outb(v, 0x71);
}

/* ---- PCI, host bridge, ISA bridge ---- */

/* Values of QEMU 7.2 -M pc, read with its monitor. */
TEST(pci_functions_have_the_ids_that_drivers_know)
{
    power_on(16 * MIB);
    CHECK_EQ(config_read(0, 0), 0x12378086);
    CHECK_EQ(config_read(0, 8), 0x06000002);
    CHECK_EQ(config_read(0, 4), 0x02000000);
    CHECK_EQ(config_read(0, 0x2C), 0x11001AF4);
    CHECK_EQ(config_read(0, 0x70), 0x00020000);
    CHECK_EQ(config_read(8, 0), 0x70008086);
    CHECK_EQ(config_read(8, 8), 0x06010000);
    CHECK_EQ(config_read(8, 0xC), 0x00800000);
    CHECK_EQ(config_read(8, 0x4C), 0x0003004D);
    CHECK_EQ(config_read(8, 0x60), 0x80808080);
    CHECK_EQ(config_read(8, 0x74), 0x0C0C0000);
    CHECK_EQ(config_read(11, 0), 0x71138086);
    CHECK_EQ(config_read(11, 8), 0x06800003);
    CHECK_EQ(config_read(11, 4), 0x02800000);
    CHECK_EQ(config_read(11, 0x3C), 0x00000100);
    CHECK_EQ(config_read(11, 0x40), 0x00000001);
    CHECK_EQ(config_read(11, 0x90), 0x0000B101);
    CHECK_EQ(config_read(11, 0xD0), 0x00090000);
    CHECK_EQ(config_read(0x10, 0), 0xFFFFFFFF);
    power_off();
}

/* PCI 3.0 §3.2.2.3.2: anything but a dword at CF8h is an ordinary I/O access, and the enable bit must be set. */
TEST(pci_address_register_takes_dwords_only)
{
    power_on(16 * MIB);
    outl(0x80000800, 0xCF8);
    CHECK_EQ(inl(0xCFC), 0x70008086);
    outb(0x00, 0xCF8);
    outw(0x1234, 0xCFA);
    CHECK_EQ(inl(0xCF8), 0x80000800);
    CHECK_EQ(inw(0xCFE), 0x7000);
    CHECK_EQ(inb(0xCFD), 0x80);
    outl(0x00000800, 0xCF8);
    CHECK_EQ(inl(0xCFC), 0xFFFFFFFF);
    outl(0x80010000, 0xCF8); /* bus 1 is empty */
    CHECK_EQ(inl(0xCFC), 0xFFFFFFFF);
    power_off();
}

TEST(pci_read_only_bits_stay)
{
    power_on(16 * MIB);
    config_write(8, 0, 0, 4);
    config_write(8, 8, 0xFFFFFFFF, 4);
    CHECK_EQ(config_read(8, 0), 0x70008086);
    CHECK_EQ(config_read(8, 8), 0x06010000);
    config_write(8, 4, 0xFFFFFFFF, 4);
    CHECK_EQ(config_read(8, 4), 0x02000507);
    config_write(8, 0x3C, 0xAB, 1);
    CHECK_EQ(config_read(8, 0x3C), 0x000000AB);
    power_off();
}

/* PCI 3.0 §6.2.5.1: sizing by writing ones, decoding only while the command bit is set. */
TEST(pci_bars_are_sized_moved_and_gated)
{
    power_on(16 * MIB);
    CHECK(add(&pci_testdev_class, "addr=5.0") != NULL);
    CHECK_EQ(config_read(0x28, 0), 0x00051B36);
    config_write(0x28, 0x10, 0xFFFFFFFF, 4);
    config_write(0x28, 0x14, 0xFFFFFFFF, 4);
    CHECK_EQ(config_read(0x28, 0x10), 0xFFFFF000);
    CHECK_EQ(config_read(0x28, 0x14), 0xFFFFFF01);
    config_write(0x28, 0x10, 0xE0000000, 4);
    config_write(0x28, 0x14, 0x6000, 4);
    CHECK_EQ(readl(0xE0000000), 0xFFFFFFFF);
    config_write(0x28, 4, 3, 2);
    outb(0, 0x6000); /* test 0 of each */
    mem_st(&m.e, 0xE0000000, 0, 1);
    CHECK_EQ(mem_ld(&m.e, 0xE0000010, 4), 0x6F696D6D);  /* "mmio" */
    CHECK_EQ(inl(0x6010), 0x74726F70);                  /* "port" */
    config_write(0x28, 0x10, 0xE1000000, 4);            /* moves while decoding */
    CHECK_EQ(readl(0xE0000010), 0xFFFFFFFF);
    CHECK_EQ(readl(0xE1000010), 0x6F696D6D);
    config_write(0x28, 0x10, 0x00100000, 4);            /* under RAM: RAM wins */
    mem_st(&m.e, 0x100010, 0x55AA55AA, 4);
    CHECK_EQ(readl(0x100010), 0x55AA55AA);
    config_write(0x28, 4, 0, 2);
    CHECK_EQ(inl(0x6010), 0xFFFFFFFF);
    power_off();
}

/* QEMU docs/specs/pci-testdev: a match of offset, width and data counts. */
TEST(pci_testdev_counts_matching_accesses)
{
    uint32_t offset;
    power_on(16 * MIB);
    add(&pci_testdev_class, "addr=5.0");
    config_write(0x28, 0x14, 0x6000, 4);
    config_write(0x28, 4, 1, 2);
    outb(0, 0x6000);
    offset = inl(0x6004);
    CHECK(offset < 256);
    CHECK_EQ(inl(0x600C), 0);
    outb(inb(0x6008), 0x6000 + offset);
    outb(inb(0x6008), 0x6000 + offset);
    outb(inb(0x6008) ^ 1u, 0x6000 + offset);
    CHECK_EQ(inl(0x600C), 2);
    outb(99, 0x6000);
    CHECK_EQ(inb(0x6010), 0); /* no name: no such test */
    power_off();
}

/* i440FX boards: INTA of slot n goes to PIRQ (n - 1) & 3; PIIX3 PIRQRC routes it; sharing is an OR. */
TEST(pci_intx_lines_are_routed_shared_and_counted)
{
    struct pci_device *a, *b;
    power_on(16 * MIB);
    a = (struct pci_device *)(void *)add(&pci_testdev_class, "addr=3.0");
    b = (struct pci_device *)(void *)add(&pci_testdev_class, "addr=7.0");
    pic_setup();
    outb(0x0C, 0x4D1); /* IRQ 10, 11 level */
    a->config[0x3D] = b->config[0x3D] = 1;
    pci_set_intx(a, 1);
    CHECK_EQ(inb(0xA0) & 0x0C, 0); /* not routed yet */
    config_write(8, 0x62, 0x0B, 1); /* slot 3 and slot 7: PIRQC to IRQ 11 */
    CHECK_EQ(inb(0xA0), 0x08);
    pci_set_intx(b, 1);
    pci_set_intx(a, 0);
    CHECK_EQ(inb(0xA0), 0x08);
    config_write(8, 0x62, 0x0A, 1);
    CHECK_EQ(inb(0xA0), 0x04);
    CHECK_EQ(config_read(0x38, 4) & 0x80000, 0x80000);
    config_write(0x38, 4, 0x400, 2); /* INTx disable */
    CHECK_EQ(inb(0xA0), 0x00);
    config_write(0x38, 4, 0x000, 2);
    CHECK_EQ(inb(0xA0), 0x04);
    CHECK_EQ(take(0), 0x2A);
    pci_set_intx(b, 0);
    power_off();
}

/* PCI 3.0 §6.8.1.3. */
TEST(msi_message_reaches_the_apic_and_needs_bus_mastering)
{
    struct pci_device *d;
    unsigned cap;
    power_on(16 * MIB);
    apic_setup();
    d = (struct pci_device *)(void *)add(&pci_testdev_class, "addr=3.0");
    CHECK_EQ(pci_add_msi(d, 4), 0);
    cap = config_read(0x18, 0x34) & 0xFF;
    CHECK_EQ(config_read(0x18, cap) & 0xFF, 5);
    CHECK_EQ(config_read(0x18, cap) >> 16, 0x84); /* 64-bit, four vectors */
    config_write(0x18, cap + 4, 0xFEE01000, 4);   /* destination 1, physical */
    config_write(0x18, cap + 12, 0x4050, 2);
    config_write(0x18, cap + 2, 0x11, 2);         /* two granted, enabled */
    pci_msi_send(d, 1);
    CHECK_EQ(take(1), -1);
    config_write(0x18, 4, 4, 2);
    pci_msi_send(d, 1);
    CHECK_EQ(take(0), -1);
    CHECK_EQ(take(1), 0x51);
    pci_msi_send(d, 2); /* only two granted: bit 1 stays as the guest wrote it */
    apic_write(1, 0xB0, 0);
    CHECK_EQ(take(1), 0x50);
    power_off();
}

/* PCI 3.0 §6.8.2.9, §6.8.3.5: a masked vector sets its pending bit and is sent when unmasked. */
TEST(msix_vector_waits_for_its_mask)
{
    struct pci_device *d;
    unsigned cap;
    power_on(16 * MIB);
    apic_setup();
    d = (struct pci_device *)(void *)add(&pci_testdev_class, "addr=3.0");
    CHECK_EQ(pci_add_msix_bar(d, 3, 5), 0);
    pci_device_reset(d);
    cap = config_read(0x18, 0x34) & 0xFF;
    CHECK_EQ(config_read(0x18, cap) & 0xFF, 0x11);
    CHECK_EQ(config_read(0x18, cap) >> 16, 4);
    CHECK_EQ(config_read(0x18, cap + 4), 3);
    CHECK_EQ(config_read(0x18, cap + 8), 0x803);
    config_write(0x18, 0x1C, 0xE0000000, 4);
    config_write(0x18, 4, 6, 2);
    CHECK_EQ(readl(0xE000002C), 1); /* masked from reset */
    writel(0xE0000020, 0xFEE00000);
    writel(0xE0000028, 0x66);
    config_write(0x18, cap + 2, 0x8000, 2);
    pci_notify(d, 2, 1);
    CHECK_EQ(take(0), -1);
    CHECK_EQ(readl(0xE0000800), 4);
    writel(0xE000002C, 0);
    CHECK_EQ(take(0), 0x66);
    CHECK_EQ(readl(0xE0000800), 0);
    power_off();
}

/* 82441FX §3.2.17: bit 0 of a field sends reads to RAM, bit 1 writes. */
TEST(pam_switches_reads_and_writes_apart)
{
    static struct ram_block *rom;
    static struct region r;
    struct err err;
    power_on(16 * MIB);
    rom = ram_block_create(&m.e, "rom", 0x20000, true, &err);
    memset(rom->bytes, 0x52, 0x20000);
    region_init_ram(&r, "rom", rom, 0, 0x20000);
    region_add(&m.e, &m.e.memory, &r, 0xE0000, MAP_PRIO_ROM);
    CHECK_EQ(mem_ld(&m.e, 0xF0000, 1), 0x52);
    CHECK_EQ(mem_ld(&m.e, 0xC8000, 1), 0xFF);
    mem_st(&m.e, 0xC8000, 0x11, 1);
    CHECK_EQ(mem_ld(&m.e, 0xC8000, 1), 0xFF);
    config_write(0, 0x59, 0x20, 1);            /* F0000h: writes to RAM, reads from ROM: shadowing */
    mem_st(&m.e, 0xF1234, 0x77, 1);
    CHECK_EQ(mem_ld(&m.e, 0xF1234, 1), 0x52);
    config_write(0, 0x59, 0x10, 1);            /* read-only RAM */
    CHECK_EQ(mem_ld(&m.e, 0xF1234, 1), 0x77);
    mem_st(&m.e, 0xF1234, 0x78, 1);
    CHECK_EQ(mem_ld(&m.e, 0xF1234, 1), 0x77);
    config_write(0, 0x59, 0x30, 1);
    mem_st(&m.e, 0xF1234, 0x79, 1);
    CHECK_EQ(mem_ld(&m.e, 0xF1234, 1), 0x79);
    CHECK_EQ(mem_ld(&m.e, 0xE1234, 1), 0x52);
    config_write(0, 0x5B, 0x03, 1);            /* C8000h-CBFFFh */
    mem_st(&m.e, 0xC8000, 0x11, 1);
    mem_st(&m.e, 0xCBFFF, 0x12, 1);
    mem_st(&m.e, 0xCC000, 0x13, 1);
    CHECK_EQ(mem_ld(&m.e, 0xC8000, 1), 0x11);
    CHECK_EQ(mem_ld(&m.e, 0xCBFFF, 1), 0x12);
    CHECK_EQ(mem_ld(&m.e, 0xCC000, 1), 0xFF);
    reset_device(m.e.devices);
    CHECK_EQ(mem_ld(&m.e, 0xF1234, 1), 0x52);
    region_remove(&m.e, &m.e.memory, &r);
    power_off();
}

/* 82441FX §3.2.20. */
TEST(smram_opens_and_locks)
{
    power_on(16 * MIB);
    mem_st(&m.e, 0xA0000, 0x42, 1);
    CHECK_EQ(mem_ld(&m.e, 0xA0000, 1), 0xFF);
    config_write(0, 0x72, 0x4A, 1);
    mem_st(&m.e, 0xA0000, 0x42, 1);
    CHECK_EQ(mem_ld(&m.e, 0xA0000, 1), 0x42);
    config_write(0, 0x72, 0x1A, 1);
    config_write(0, 0x72, 0x4A, 1);
    CHECK_EQ((config_read(0, 0x70) >> 16) & 0xFF, 0x1A);
    CHECK_EQ(mem_ld(&m.e, 0xA0000, 1), 0xFF);
    power_off();
}

TEST(resets_come_from_cf9_and_port_92)
{
    power_on(16 * MIB);
    outl(0x80000000, 0xCF8); /* the dword must not be taken for a write of CF9h */
    CHECK_EQ(m.requests, 0);
    outb(0x02, 0xCF9);
    CHECK_EQ(m.requests, 0);
    CHECK_EQ(inb(0xCF9), 0x02);
    outb(0x06, 0xCF9);
    CHECK_EQ(m.requests, REQ_RESET);
    m.requests = 0;
    CHECK_EQ(inb(0x92), 0x02);
    outb(0x00, 0x92);
    CHECK_EQ(m.e.a20_mask, ~(UINT64_C(1) << 20));
    CHECK_EQ(inb(0x92), 0x00);
    outb(0x02, 0x92);
    CHECK_EQ(m.e.a20_mask, UINT64_MAX);
    chipset_set_a20(&m.e, false); /* the keyboard controller's hand */
    CHECK_EQ(inb(0x92), 0x00);
    outb(0x03, 0x92);
    CHECK_EQ(m.requests, REQ_RESET);
    power_off();
}

/* ---- 8259A ---- */

TEST(pic_delivers_by_priority_and_nests)
{
    power_on(16 * MIB);
    pic_setup();
    pic_set_line(&m.e, 4, 1);
    pic_set_line(&m.e, 10, 1);
    CHECK_EQ(inb(0x20), 0x14); /* IRR: 4 and the cascade */
    CHECK_EQ(take(0), 0x2A);   /* the slave sits at line 2 */
    outb(0x0B, 0x20), outb(0x0B, 0xA0);
    CHECK_EQ(inb(0x20), 0x04);
    CHECK_EQ(inb(0xA0), 0x04);
    CHECK_EQ(take(0), -1);     /* 4 is below 2 */
    pic_set_line(&m.e, 1, 1);
    CHECK_EQ(take(0), 0x21);   /* 1 is above */
    outb(0x20, 0x20);
    CHECK_EQ(take(0), -1);
    outb(0x20, 0xA0), outb(0x20, 0x20);
    CHECK_EQ(take(0), 0x24);
    outb(0x64, 0x20);          /* specific EOI */
    CHECK_EQ(inb(0x20), 0);
    power_off();
}

TEST(pic_edge_needs_a_new_edge_and_level_repeats)
{
    power_on(16 * MIB);
    pic_setup();
    pic_set_line(&m.e, 5, 1);
    CHECK_EQ(take(0), 0x25);
    outb(0x20, 0x20);
    CHECK_EQ(take(0), -1);
    pic_set_line(&m.e, 5, 0);
    outb(0x20, 0x4D0);
    CHECK_EQ(inb(0x4D0), 0x20);
    pic_set_line(&m.e, 5, 1);
    CHECK_EQ(take(0), 0x25);
    outb(0x20, 0x20);
    CHECK_EQ(take(0), 0x25);
    pic_set_line(&m.e, 5, 0);
    outb(0x20, 0x20);
    CHECK_EQ(take(0), -1);
    outb(0xFF, 0x4D0), outb(0xFF, 0x4D1); /* PIIX3 §2.5.7: 0-2, 8 and 13 cannot be level */
    CHECK_EQ(inb(0x4D0), 0xF8);
    CHECK_EQ(inb(0x4D1), 0xDE);
    power_off();
}

/* 8259A data sheet, "Interrupt Sequence": a request gone before INTA gives level 7, without ISR. */
TEST(pic_answers_a_vanished_request_with_spurious_7)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0x20, 0x4D0);
    pic_set_line(&m.e, 5, 1);
    pic_set_line(&m.e, 5, 0);
    CHECK_EQ(pic_acknowledge(&m.e), 0x27);
    outb(0x0B, 0x20);
    CHECK_EQ(inb(0x20), 0);
    power_off();
}

TEST(pic_masks_mask_and_special_mask_mode_lets_lower_through)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0x02, 0x21);
    pic_set_line(&m.e, 1, 1);
    CHECK_EQ(take(0), -1);
    outb(0x00, 0x21);
    CHECK_EQ(take(0), 0x21);
    pic_set_line(&m.e, 3, 1);
    CHECK_EQ(take(0), -1);
    outb(0x02, 0x21); /* mask the one in service ... */
    outb(0x68, 0x20); /* ... and special mask mode: it no longer stops lower ones */
    CHECK_EQ(take(0), 0x23);
    power_off();
}

TEST(pic_rotates_and_ends_by_itself)
{
    power_on(16 * MIB);
    pic_setup();
    pic_set_line(&m.e, 3, 1);
    CHECK_EQ(take(0), 0x23);
    outb(0xA0, 0x20); /* rotate on non-specific EOI: 3 becomes lowest */
    pic_set_line(&m.e, 3, 0), pic_set_line(&m.e, 3, 1);
    pic_set_line(&m.e, 6, 1);
    CHECK_EQ(take(0), 0x26);
    outb(0x20, 0x20);
    CHECK_EQ(take(0), 0x23);
    outb(0x20, 0x20);
    outb(0xC7, 0x20); /* set priority: 7 lowest again */
    outb(0x11, 0x20), outb(0x20, 0x21), outb(0x04, 0x21), outb(0x03, 0x21); /* ICW4: automatic EOI */
    pic_set_line(&m.e, 4, 1);
    CHECK_EQ(take(0), 0x24);
    outb(0x0B, 0x20);
    CHECK_EQ(inb(0x20), 0);
    power_off();
}

TEST(pic_polls)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0x0C, 0x20);
    CHECK_EQ(inb(0x20), 0x00);
    pic_set_line(&m.e, 6, 1);
    outb(0x0C, 0x20);
    CHECK_EQ(inb(0x20), 0x86);
    outb(0x0B, 0x20);
    CHECK_EQ(inb(0x20), 0x40);
    power_off();
}

/* Data sheet "The Special Fully Nested Mode": a higher request of the slave in service gets through. */
TEST(pic_special_fully_nested_mode_lets_the_slave_nest)
{
    power_on(16 * MIB);
    pic_setup();
    pic_set_line(&m.e, 12, 1);
    CHECK_EQ(take(0), 0x2C);
    pic_set_line(&m.e, 9, 1);
    CHECK_EQ(take(0), -1);
    outb(0x20, 0xA0), outb(0x20, 0x20);
    CHECK_EQ(take(0), 0x29);
    outb(0x20, 0xA0), outb(0x20, 0x20);
    outb(0x11, 0x20), outb(0x20, 0x21), outb(0x04, 0x21), outb(0x11, 0x21), outb(0, 0x21);
    pic_set_line(&m.e, 12, 0), pic_set_line(&m.e, 12, 1);
    pic_set_line(&m.e, 9, 0);
    CHECK_EQ(take(0), 0x2C);
    pic_set_line(&m.e, 9, 1);
    CHECK_EQ(take(0), 0x29);
    power_off();
}

/* ---- IO-APIC ---- */

TEST(ioapic_shows_its_version_and_24_masked_pins)
{
    unsigned i;
    power_on(16 * MIB);
    CHECK_EQ(io_read(1), 0x00170020);
    for (i = 0; i < 24; i++)
        CHECK_EQ(io_read(0x10 + 2 * i), 0x10000);
    io_write(0, 0x05000000);
    CHECK_EQ(io_read(0), 0x05000000);
    CHECK_EQ(io_read(2), 0x05000000);
    io_write(0x12, 0xFFFFFFFF); /* delivery status and Remote IRR are read-only */
    CHECK_EQ(io_read(0x12), 0x1AFFF);
    io_write(0x13, 0xFFFFFFFF);
    CHECK_EQ(io_read(0x13), 0xFF000000);
    power_off();
}

/* What Linux's check_timer() relies on: IRQ 0 arrives at pin 2, edge triggered. */
TEST(ioapic_timer_is_on_pin_2)
{
    unsigned ticks = 0, i;
    power_on(16 * MIB);
    apic_setup();
    outb(0xFF, 0x21), outb(0xFF, 0xA1);
    io_write(0x15, 0);
    io_write(0x14, 0x30);
    outb(0x34, 0x43), outb(0xA9, 0x40), outb(0x04, 0x40); /* 1000 Hz */
    for (i = 0; i < 100; i++) {
        step(1 * MS);
        if (take(0) == 0x30) {
            ticks++;
            apic_write(0, 0xB0, 0);
        }
    }
    CHECK(ticks >= 98 && ticks <= 101);
    power_off();
}

/* 82093AA §3.2.4: edges at a masked pin are lost. */
TEST(ioapic_masked_edge_is_lost)
{
    power_on(16 * MIB);
    apic_setup();
    io_write(0x18, 0x10034);
    ioapic_set_pin(&m.e, 4, 1);
    io_write(0x18, 0x34);
    CHECK_EQ(take(0), -1);
    ioapic_set_pin(&m.e, 4, 0);
    ioapic_set_pin(&m.e, 4, 1);
    CHECK_EQ(take(0), 0x34);
    apic_write(0, 0xB0, 0);
    CHECK_EQ(take(0), -1);
    power_off();
}

TEST(ioapic_level_waits_for_eoi_and_repeats)
{
    power_on(16 * MIB);
    apic_setup();
    io_write(0x10 + 2 * 11, 0x8041);
    ioapic_set_pin(&m.e, 11, 1);
    CHECK_EQ(io_read(0x10 + 2 * 11), 0xC041); /* Remote IRR */
    CHECK_EQ(take(0), 0x41);
    CHECK_EQ(apic_read(0, 0x1A0), 2);         /* TMR: level */
    ioapic_set_pin(&m.e, 11, 0);
    ioapic_set_pin(&m.e, 11, 1);
    CHECK_EQ(take(0), -1);
    apic_write(0, 0xB0, 0);                   /* still asserted: again */
    CHECK_EQ(take(0), 0x41);
    ioapic_set_pin(&m.e, 11, 0);
    apic_write(0, 0xB0, 0);
    CHECK_EQ(take(0), -1);
    CHECK_EQ(io_read(0x10 + 2 * 11), 0x8041);
    ioapic_set_pin(&m.e, 11, 1);
    CHECK_EQ(take(0), 0x41);
    ioapic_set_pin(&m.e, 11, 0);
    writel(IOAPIC + 0x40, 0x41);              /* the EOI register of version 20h */
    CHECK_EQ(io_read(0x10 + 2 * 11), 0x8041);
    power_off();
}

/* Kernels clear a stuck Remote IRR by switching the entry to edge and back. */
TEST(ioapic_switch_to_edge_clears_remote_irr)
{
    power_on(16 * MIB);
    apic_setup();
    io_write(0x10 + 2 * 11, 0x8041);
    ioapic_set_pin(&m.e, 11, 1);
    ioapic_set_pin(&m.e, 11, 0);
    CHECK_EQ(io_read(0x10 + 2 * 11), 0xC041);
    io_write(0x10 + 2 * 11, 0x10041);
    io_write(0x10 + 2 * 11, 0x8041);
    CHECK_EQ(io_read(0x10 + 2 * 11), 0x8041);
    power_off();
}

/* ---- local APIC ---- */

TEST(lapic_power_on_state)
{
    bool fault;
    power_on(16 * MIB);
    CHECK_EQ(apic_read(0, 0x20), 0);
    CHECK_EQ(apic_read(1, 0x20), 0x01000000);
    CHECK_EQ(apic_read(0, 0x30), 0x50014);
    CHECK_EQ(apic_read(0, 0xE0), 0xFFFFFFFF);
    CHECK_EQ(apic_read(0, 0xF0), 0xFF);
    CHECK_EQ(apic_read(1, 0x320), 0x10000);
    CHECK_EQ(apic_read(1, 0x350), 0x10000);
    CHECK_EQ(lapic_msr_read(&m.cpu[0], 0x1B, &fault), 0xFEE00900); /* boot processor, enabled */
    CHECK_EQ(lapic_msr_read(&m.cpu[1], 0x1B, &fault), 0xFEE00800);
    power_off();
}

TEST(lapic_orders_interrupts_by_priority_class)
{
    power_on(16 * MIB);
    apic_setup();
    apic_deliver(&m.e, 0, false, APIC_FIXED, 0x45, false);
    apic_deliver(&m.e, 0, false, APIC_FIXED, 0x51, false);
    apic_deliver(&m.e, 0, false, APIC_FIXED, 0x47, false);
    CHECK_EQ(apic_read(0, 0x220), 0x200A0); /* IRR bits 45h, 47h, 51h */
    CHECK_EQ(take(0), 0x51);
    CHECK_EQ(apic_read(0, 0xA0), 0x50);  /* PPR */
    CHECK_EQ(take(0), -1);
    apic_write(0, 0xB0, 0);
    CHECK_EQ(take(0), 0x47);
    CHECK_EQ(take(0), -1);               /* same class */
    apic_write(0, 0xB0, 0);
    apic_write(0, 0x80, 0x40);           /* TPR at that class */
    CHECK_EQ(take(0), -1);
    CHECK_EQ(lapic_get_tpr(&m.cpu[0]), 4);
    lapic_set_tpr(&m.cpu[0], 3);         /* CR8 */
    CHECK_EQ(apic_read(0, 0x80), 0x30);
    CHECK_EQ(take(0), 0x45);
    power_off();
}

TEST(lapic_passes_the_8259_through_lint0)
{
    power_on(16 * MIB);
    pic_setup();
    pic_set_line(&m.e, 4, 1); /* power-up: boot processor's LINT0 is ExtINT */
    CHECK(m.cpu[0].pending & CPU_INT_INTR);
    CHECK(!(m.cpu[1].pending & CPU_INT_INTR));
    CHECK_EQ(take(0), 0x24);
    outb(0x20, 0x20);
    apic_write(0, 0xF0, 0x1FF);
    apic_write(0, 0x350, 0x10700);
    pic_set_line(&m.e, 4, 0), pic_set_line(&m.e, 4, 1);
    CHECK_EQ(take(0), -1);
    apic_write(0, 0x350, 0x00700);
    CHECK_EQ(take(0), 0x24);
    power_off();
}

TEST(lapic_software_disable_masks_local_vectors)
{
    power_on(16 * MIB);
    apic_setup();
    apic_write(0, 0x360, 0x400);
    apic_write(0, 0xF0, 0xFF);
    CHECK_EQ(apic_read(0, 0x360), 0x10400); /* SDM §10.4.7.2 */
    apic_write(0, 0x360, 0x400);
    CHECK_EQ(apic_read(0, 0x360), 0x10400);
    apic_deliver(&m.e, 0, false, APIC_FIXED, 0x45, false);
    CHECK_EQ(take(0), -1);
    power_off();
}

TEST(lapic_timer_counts_fires_and_repeats)
{
    unsigned n = 0, i;
    power_on(16 * MIB);
    apic_setup();
    apic_write(0, 0x3E0, 0xB);            /* divide by 1: 1 GHz, as QEMU's */
    apic_write(0, 0x320, 0xEF);
    apic_write(0, 0x380, 1000000);
    step(400 * US);
    CHECK_EQ(apic_read(0, 0x390), 600000);
    CHECK_EQ(take(0), -1);
    step(600 * US);
    CHECK_EQ(take(0), 0xEF);
    CHECK_EQ(apic_read(0, 0x390), 0);
    apic_write(0, 0xB0, 0);
    step(5 * MS);
    CHECK_EQ(take(0), -1);
    apic_write(0, 0x3E0, 0x3);            /* divide by 16 */
    apic_write(0, 0x320, 0x200EF);        /* periodic */
    apic_write(0, 0x380, 62500);          /* 1 ms */
    for (i = 0; i < 50; i++) {
        step(1 * MS);
        if (take(0) == 0xEF)
            n++, apic_write(0, 0xB0, 0);
    }
    CHECK_EQ(n, 50);
    apic_write(0, 0x320, 0x300EF);        /* masked: it goes on without interrupts */
    step(250 * US);
    CHECK_EQ(apic_read(0, 0x390), 62500 - 15625);
    step(5 * MS);
    CHECK_EQ(take(0), -1);
    apic_write(0, 0x380, 0);
    CHECK_EQ(clock_next_deadline(&m.e) > emu_now_ns(&m.e) + 20 * MS, 1);
    power_off();
}

/* SDM vol. 3A §10.5.4: what the timer's end has put into IRR no later write to its registers takes back, noticed already or not. */
TEST(lapic_timer_that_has_ended_interrupts_whatever_is_written_then)
{
    static const uint32_t reg[] = { 0x320, 0x3E0, 0x380, 0x320 }, value[] = { 0xEF, 0x3, 0, 0x100EF };
    unsigned i;
    for (i = 0; i < 4; i++) {
        power_on(16 * MIB);
        apic_setup();
        apic_write(0, 0x3E0, 0xB);
        apic_write(0, 0x320, 0xEF);
        apic_write(0, 0x380, 1000000);
        clock_warp_to(&m.e, emu_now_ns(&m.e) + 2 * MS); /* nobody has looked at the timers */
        apic_write(0, reg[i], value[i]);
        step(10 * US);
        CHECK_EQ(take(0), 0xEF);
        apic_write(0, 0xB0, 0);
        step(10 * MS);
        CHECK_EQ(take(0), -1);
        power_off();
    }
}

/* SDM vol. 3A §10.5.4.1. The TSC of this fixture runs at 2 GHz. */
TEST(lapic_tsc_deadline_fires_once_and_clears)
{
    bool fault;
    power_on(16 * MIB);
    apic_setup();
    lapic_msr_write(&m.cpu[0], 0x6E0, 12345, &fault); /* ignored in the other modes */
    CHECK_EQ(lapic_msr_read(&m.cpu[0], 0x6E0, &fault), 0);
    apic_write(0, 0x320, 0x400EE);
    lapic_msr_write(&m.cpu[0], 0x6E0, cpu_tsc(&m.cpu[0]) + 2000000, &fault);
    CHECK(!fault);
    step(999 * US);
    CHECK_EQ(take(0), -1);
    step(2 * US);
    CHECK_EQ(take(0), 0xEE);
    CHECK_EQ(lapic_msr_read(&m.cpu[0], 0x6E0, &fault), 0);
    apic_write(0, 0xB0, 0);
    lapic_msr_write(&m.cpu[0], 0x6E0, 1, &fault); /* long past: at once */
    step(1 * US);
    CHECK_EQ(take(0), 0xEE);
    apic_write(0, 0xB0, 0);
    lapic_msr_write(&m.cpu[0], 0x6E0, cpu_tsc(&m.cpu[0]) + 2000000, &fault);
    lapic_msr_write(&m.cpu[0], 0x6E0, 0, &fault); /* disarmed */
    step(3 * MS);
    CHECK_EQ(take(0), -1);
    power_off();
}

TEST(lapic_sends_ipis_by_every_address_form)
{
    power_on(16 * MIB);
    apic_setup();
    apic_write(0, 0x310, 0x01000000);
    apic_write(0, 0x300, 0x40F1);
    CHECK_EQ(take(0), -1);
    CHECK_EQ(take(1), 0xF1);
    apic_write(1, 0xB0, 0);
    apic_write(0, 0x300, 0x440F2); /* self */
    CHECK_EQ(take(0), 0xF2);
    apic_write(0, 0xB0, 0);
    apic_write(0, 0x300, 0xC40F3); /* all but self */
    CHECK_EQ(take(0), -1);
    CHECK_EQ(take(1), 0xF3);
    apic_write(1, 0xB0, 0);
    apic_write(0, 0x300, 0x840F4); /* all */
    CHECK_EQ(take(0), 0xF4);
    CHECK_EQ(take(1), 0xF4);
    apic_write(0, 0xB0, 0), apic_write(1, 0xB0, 0);
    apic_write(0, 0xD0, 0x01000000), apic_write(1, 0xD0, 0x02000000);
    apic_write(0, 0x310, 0x02000000);
    apic_write(0, 0x300, 0x48F5); /* logical, flat */
    CHECK_EQ(take(0), -1);
    CHECK_EQ(take(1), 0xF5);
    apic_write(1, 0xB0, 0);
    apic_write(0, 0xE0, 0x0FFFFFFF), apic_write(1, 0xE0, 0x0FFFFFFF);
    apic_write(0, 0xD0, 0x11000000), apic_write(1, 0xD0, 0x21000000);
    apic_write(0, 0x310, 0x21000000);
    apic_write(0, 0x300, 0x48F6); /* logical, cluster 2, member 1 */
    CHECK_EQ(take(0), -1);
    CHECK_EQ(take(1), 0xF6);
    apic_write(1, 0xB0, 0);
    apic_write(0, 0x310, 0xFF000000);
    apic_write(0, 0x80, 0x20);
    apic_write(0, 0x300, 0x41F7); /* physical broadcast, lowest priority: CPU 1 has it */
    CHECK_EQ(take(0), -1);
    CHECK_EQ(take(1), 0xF7);
    power_off();
}

TEST(lapic_starts_another_cpu_with_init_and_sipi)
{
    power_on(16 * MIB);
    apic_setup();
    apic_write(1, 0x320, 0x31);
    apic_write(0, 0x310, 0x01000000);
    apic_write(0, 0x300, 0xC500);  /* INIT, level, assert */
    CHECK(m.cpu[1].pending & CPU_INT_INIT);
    CHECK_EQ(apic_read(1, 0x320), 0x10000);
    CHECK_EQ(apic_read(1, 0x20), 0x01000000);
    m.cpu[1].pending = 0;
    apic_write(0, 0x300, 0x8500);  /* de-assert: nothing */
    CHECK_EQ(m.cpu[1].pending, 0);
    apic_write(0, 0x300, 0x4608);
    CHECK_EQ(m.sipi[1], 8);
    CHECK_EQ(m.sipi[0], -1);
    apic_write(0, 0x300, 0x4400);  /* NMI */
    CHECK(m.cpu[1].pending & CPU_INT_NMI);
    CHECK(!(m.cpu[0].pending & CPU_INT_NMI));
    power_off();
}

TEST(lapic_reports_errors_through_esr)
{
    power_on(16 * MIB);
    apic_setup();
    apic_write(0, 0x370, 0xFE);
    apic_write(0, 0x300, 0x4000F);      /* vector below 16 */
    CHECK_EQ(take(0), 0xFE);
    CHECK_EQ(apic_read(0, 0x280), 0);
    apic_write(0, 0x280, 0);
    CHECK_EQ(apic_read(0, 0x280), 0x20);
    apic_write(0, 0xB0, 0);
    (void)apic_read(0, 0x3F0);          /* no such register in xAPIC mode */
    apic_write(0, 0x280, 0);
    CHECK_EQ(apic_read(0, 0x280), 0x80);
    power_off();
}

/* SDM vol. 3A §10.12. */
TEST(lapic_x2apic_mode_speaks_msrs)
{
    bool fault;
    power_on(16 * MIB);
    apic_setup();
    lapic_msr_read(&m.cpu[1], 0x802, &fault);
    CHECK(fault);
    lapic_msr_write(&m.cpu[1], 0x1B, 0xFEE00400, &fault); /* x2APIC without enable */
    CHECK(fault);
    lapic_msr_write(&m.cpu[0], 0x1B, 0xFEE00D00, &fault);
    CHECK(!fault);
    lapic_msr_write(&m.cpu[1], 0x1B, 0xFEE00C00, &fault);
    CHECK(!fault);
    CHECK_EQ(lapic_msr_read(&m.cpu[1], 0x802, &fault), 1);
    CHECK_EQ(lapic_msr_read(&m.cpu[1], 0x80D, &fault), 2); /* cluster 0, member bit 1 */
    CHECK_EQ(apic_read(1, 0x20), 0xFFFFFFFF);              /* the window is closed */
    lapic_msr_write(&m.cpu[0], 0x80F, 0x1FF, &fault);
    lapic_msr_write(&m.cpu[1], 0x80F, 0x1FF, &fault);
    lapic_msr_write(&m.cpu[0], 0x830, UINT64_C(0x1000000C1), &fault);
    CHECK(!fault);
    CHECK_EQ(take(1), 0xC1);
    CHECK_EQ(lapic_msr_read(&m.cpu[1], 0x816, &fault), 2); /* ISR of C0h-DFh */
    lapic_msr_write(&m.cpu[1], 0x80B, 1, &fault);
    CHECK(fault);
    lapic_msr_write(&m.cpu[1], 0x80B, 0, &fault);
    CHECK(!fault);
    CHECK_EQ(lapic_msr_read(&m.cpu[1], 0x816, &fault), 0);
    lapic_msr_write(&m.cpu[0], 0x830, UINT64_C(0x2000008C2), &fault); /* logical: member 1 */
    CHECK_EQ(take(0), -1);
    CHECK_EQ(take(1), 0xC2);
    lapic_msr_write(&m.cpu[0], 0x83F, 0x99, &fault); /* self IPI */
    CHECK_EQ(take(0), 0x99);
    lapic_msr_read(&m.cpu[0], 0x831, &fault);
    CHECK(fault);
    lapic_msr_write(&m.cpu[0], 0x802, 5, &fault);
    CHECK(fault);
    lapic_msr_write(&m.cpu[0], 0x1B, 0xFEE00900, &fault); /* back to xAPIC directly */
    CHECK(fault);
    lapic_msr_write(&m.cpu[0], 0x1B, 0xFEE00100, &fault);
    CHECK(!fault);
    lapic_msr_write(&m.cpu[0], 0x1B, 0xFEE00900, &fault);
    CHECK(!fault);
    CHECK_EQ(apic_read(0, 0xF0), 0xFF);
    lapic_msr_write(&m.cpu[0], 0x1B, 0xFEE00901, &fault);
    CHECK(fault);
    power_off();
}

TEST(lapic_window_moves_with_its_base)
{
    bool fault;
    power_on(16 * MIB);
    lapic_msr_write(&m.cpu[0], 0x1B, 0xD0000900, &fault);
    CHECK(!fault);
    m.e.current_cpu = &m.cpu[0];
    CHECK_EQ(readl(0xD0000030), 0x50014);
    reset_device(m.e.devices);
    CHECK_EQ(readl(APIC + 0x30), 0x50014);
    power_off();
}

/* ---- 8254 and port 61h ---- */

/* Data sheet, mode 2: one pulse each N clocks. 1193182 / 11932 = 99.998 Hz. */
TEST(pit_mode_2_ticks_at_its_rate)
{
    unsigned n = 0, i;
    power_on(16 * MIB);
    pic_setup();
    outb(0x34, 0x43), outb(0x9C, 0x40), outb(0x2E, 0x40);
    take(0), outb(0x20, 0x20);
    for (i = 0; i < 1000; i++) {
        step(1 * MS);
        if (take(0) == 0x20)
            n++, outb(0x20, 0x20);
    }
    CHECK(n == 99 || n == 100);
    power_off();
}

TEST(pit_counts_down_and_latches)
{
    unsigned low, high, count;
    power_on(16 * MIB);
    outb(0xB4, 0x43), outb(0x10, 0x42), outb(0x27, 0x42); /* channel 2, mode 2, 10000 */
    outb(0x01, 0x61);
    step(1 * MS);                                          /* 1193 clocks */
    outb(0x80, 0x43);
    step(1 * MS);
    low = inb(0x42), high = inb(0x42), count = high << 8 | low;
    CHECK(count >= 10000 - 1194 && count <= 10000 - 1192);
    low = inb(0x42), high = inb(0x42), count = high << 8 | low;
    CHECK(count >= 10000 - 2388 && count <= 10000 - 2385);
    outb(0xE8, 0x43);                                      /* read-back: status of channel 2 */
    CHECK_EQ(inb(0x42), 0xB4);                             /* OUT high, word access, mode 2 */
    outb(0xC8, 0x43);                                      /* read-back: status and count */
    CHECK_EQ(inb(0x42), 0xB4);
    low = inb(0x42), high = inb(0x42), count = high << 8 | low;
    CHECK(count >= 10000 - 2388 && count <= 10000 - 2385);
    power_off();
}

/* Linux's pit_calibrate_tsc() and SeaBIOS's TSC calibration: channel 2 in mode 0, gate by port 61h, until OUT shows. */
TEST(pit_port_61_calibration_takes_the_programmed_time)
{
    int64_t start;
    power_on(16 * MIB);
    outb((inb(0x61) & ~0x02u) | 0x01, 0x61);
    outb(0xB0, 0x43);
    CHECK_EQ(inb(0x61) & 0x20, 0);
    outb(0x9C, 0x42), outb(0x2E, 0x42); /* 11932 clocks: 10 ms */
    start = emu_now_ns(&m.e);
    while (!(inb(0x61) & 0x20) && emu_now_ns(&m.e) < start + NS_PER_SEC)
        step(1 * US);
    start = emu_now_ns(&m.e) - start;
    CHECK(start >= 9999 * US && start <= 10003 * US);
    power_off();
}

TEST(pit_gate_pauses_mode_0)
{
    power_on(16 * MIB);
    outb(0x01, 0x61);
    outb(0xB0, 0x43), outb(0x9C, 0x42), outb(0x2E, 0x42);
    step(4 * MS);
    outb(0x00, 0x61);
    step(50 * MS);
    CHECK_EQ(inb(0x61) & 0x20, 0);
    outb(0x01, 0x61);
    step(5900 * US);
    CHECK_EQ(inb(0x61) & 0x20, 0);
    step(200 * US);
    CHECK_EQ(inb(0x61) & 0x20, 0x20);
    power_off();
}

TEST(pit_mode_0_interrupts_once_and_mode_4_strobes_once)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0x30, 0x43), outb(0xA9, 0x40), outb(0x04, 0x40); /* 1 ms */
    step(900 * US);
    CHECK_EQ(take(0), -1);
    step(200 * US);
    CHECK_EQ(take(0), 0x20);
    outb(0x20, 0x20);
    step(200 * MS);
    CHECK_EQ(take(0), -1);
    outb(0x38, 0x43); /* Linux's one-shot: OUT goes high with the control word */
    take(0), outb(0x20, 0x20);
    outb(0xA9, 0x40), outb(0x04, 0x40);
    step(900 * US);
    CHECK_EQ(take(0), -1);
    step(200 * US);
    CHECK_EQ(take(0), 0x20);
    outb(0x20, 0x20);
    step(200 * MS);
    CHECK_EQ(take(0), -1);
    power_off();
}

/* Mode 3: high for half the count, and the count runs by twos. */
TEST(pit_mode_3_is_a_square_wave)
{
    unsigned low = 0, i;
    power_on(16 * MIB);
    outb(0x01, 0x61);
    outb(0xB6, 0x43), outb(0xE8, 0x42), outb(0x03, 0x42); /* 1000 clocks */
    for (i = 0; i < 838; i++) {
        low += !(inb(0x61) & 0x20);
        step(1 * US);
    }
    CHECK(low >= 415 && low <= 423);
    power_off();
}

/* Data sheet: a new count in mode 2 is loaded at the end of the current cycle. */
TEST(pit_new_count_waits_for_the_end_of_the_cycle)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0x34, 0x43), outb(0x9C, 0x40), outb(0x2E, 0x40); /* 10 ms */
    take(0), outb(0x20, 0x20);
    step(5 * MS);
    outb(0xA9, 0x40), outb(0x04, 0x40);                   /* 1 ms */
    step(4 * MS);
    CHECK_EQ(take(0), -1);
    step(1100 * US);
    CHECK_EQ(take(0), 0x20);
    outb(0x20, 0x20);
    step(1 * MS);
    CHECK_EQ(take(0), 0x20);
    power_off();
}

TEST(pit_counts_in_bcd)
{
    unsigned low, high;
    power_on(16 * MIB);
    outb(0x01, 0x61);
    outb(0xB1, 0x43), outb(0x00, 0x42), outb(0x50, 0x42); /* mode 0, 5000 decimal */
    step(1 * MS);                                         /* 1193 clocks */
    outb(0x80, 0x43);
    low = inb(0x42), high = inb(0x42);
    CHECK_EQ(high << 8 | low, 0x3807);
    power_off();
}

TEST(port_61_refresh_bit_toggles_every_15_us)
{
    unsigned changes = 0, was, i;
    power_on(16 * MIB);
    was = inb(0x61) & 0x10;
    for (i = 0; i < 1509; i++) {
        step(1 * US);
        if ((inb(0x61) & 0x10u) != was)
            was ^= 0x10, changes++;
    }
    CHECK_EQ(changes, 100);
    power_off();
}

/* ---- HPET ---- */

#define HPET UINT64_C(0xFED00000)

TEST(hpet_counts_at_100_mhz)
{
    uint64_t a;
    power_on(16 * MIB);
    CHECK_EQ(mem_ld(&m.e, HPET, 8), UINT64_C(0x009896808086A201));
    CHECK_EQ(readl(HPET + 4), 10000000);
    step(1 * MS);
    CHECK_EQ(readl(HPET + 0xF0), 0);
    writel(HPET + 0x10, 1);
    step(1 * MS);
    a = mem_ld(&m.e, HPET + 0xF0, 8);
    CHECK_EQ(a, 100000);
    writel(HPET + 0x10, 0);
    step(1 * MS);
    CHECK_EQ(readl(HPET + 0xF0), 100000);
    mem_st(&m.e, HPET + 0xF0, UINT64_C(0xFFFFFFFF), 8);
    writel(HPET + 0x10, 1);
    step(1 * US);
    CHECK_EQ(mem_ld(&m.e, HPET + 0xF0, 8), UINT64_C(0x100000063));
    CHECK_EQ(readl(HPET + 0x104), 4); /* timer 0 can go to IO-APIC input 2 */
    power_off();
}

/* Linux's hpet_clkevt_set_state_periodic(): configuration with SET_VAL, comparator, then period, legacy replacement on. */
TEST(hpet_periodic_in_legacy_mode_replaces_the_pit)
{
    unsigned n = 0, i;
    uint32_t now;
    power_on(16 * MIB);
    pic_setup();
    outb(0x34, 0x43), outb(0xA9, 0x40), outb(0x04, 0x40); /* the PIT would tick at 1 kHz */
    writel(HPET + 0x10, 0);
    mem_st(&m.e, HPET + 0xF0, 0, 8);
    writel(HPET + 0x10, 3);
    now = readl(HPET + 0xF0);
    writel(HPET + 0x100, readl(HPET + 0x100) | 0x14C); /* INT_ENB, PERIODIC, SET_VAL, 32-bit */
    writel(HPET + 0x108, now + 1000000);
    step(1 * US);
    writel(HPET + 0x108, 1000000); /* 10 ms */
    while (take(0) >= 0)
        outb(0x20, 0x20);
    for (i = 0; i < 1005; i++) {
        step(1 * MS);
        if (take(0) == 0x20)
            n++, outb(0x20, 0x20);
    }
    CHECK_EQ(n, 100);
    writel(HPET + 0x10, 1); /* legacy off: the PIT is back */
    n = 0;
    while (take(0) >= 0)
        outb(0x20, 0x20);
    for (i = 0; i < 100; i++) {
        step(1 * MS);
        if (take(0) == 0x20)
            n++, outb(0x20, 0x20);
    }
    CHECK(n >= 98);
    power_off();
}

TEST(hpet_one_shot_fires_and_a_missed_comparator_does_not_hang)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0x30, 0x43); /* PIT quiet */
    writel(HPET + 0x10, 3);
    writel(HPET + 0x100, 0x104); /* 32-bit one-shot */
    writel(HPET + 0x108, readl(HPET + 0xF0) + 50000);
    step(499 * US);
    CHECK_EQ(take(0), -1);
    step(2 * US);
    CHECK_EQ(take(0), 0x20);
    outb(0x20, 0x20);
    step(10 * MS);
    CHECK_EQ(take(0), -1);
    writel(HPET + 0x108, readl(HPET + 0xF0) - 5);
    step(1 * US);
    CHECK_EQ(take(0), 0x20);
    power_off();
}

TEST(hpet_level_interrupt_holds_until_status_is_cleared)
{
    power_on(16 * MIB);
    apic_setup();
    io_write(0x10 + 2 * 2, 0x8052);
    outb(0x30, 0x43), outb(0xFF, 0x21);
    writel(HPET + 0x10, 1);
    writel(HPET + 0x140, 0x406); /* timer 2: route 2, level, enabled */
    writel(HPET + 0x148, readl(HPET + 0xF0) + 1000);
    step(11 * US);
    CHECK_EQ(readl(HPET + 0x20), 4);
    CHECK_EQ(take(0), 0x52);
    apic_write(0, 0xB0, 0);
    CHECK_EQ(take(0), 0x52);
    writel(HPET + 0x20, 4);
    apic_write(0, 0xB0, 0);
    CHECK_EQ(take(0), -1);
    power_off();
}

/* IA-PC HPET 2.3.8: status may be set while the timer's interrupt is off, but it causes none. */
TEST(hpet_level_interrupt_that_is_turned_off_lets_its_line_go)
{
    power_on(16 * MIB);
    apic_setup();
    io_write(0x10 + 2 * 2, 0x8052);
    outb(0x30, 0x43), outb(0xFF, 0x21);
    writel(HPET + 0x10, 1);
    writel(HPET + 0x140, 0x406);
    writel(HPET + 0x148, readl(HPET + 0xF0) + 1000);
    step(11 * US);
    CHECK_EQ(take(0), 0x52);
    writel(HPET + 0x140, 0x402);
    apic_write(0, 0xB0, 0);
    CHECK_EQ(take(0), -1);
    CHECK_EQ(readl(HPET + 0x20), 4);
    writel(HPET + 0x140, 0x406);
    CHECK_EQ(take(0), 0x52);
    power_off();
}

/* A 32-bit periodic timer whose period is more than half of what 32 bits hold: one interrupt, the next 42.9 s later. */
TEST(hpet_32_bit_period_near_its_limit_fires_once_a_period)
{
    unsigned n = 0, i;
    power_on(16 * MIB);
    pic_setup();
    outb(0x30, 0x43);
    writel(HPET + 0x10, 2); /* legacy: IRQ 0 */
    writel(HPET + 0x100, 0x14C);
    writel(HPET + 0x108, 1000);
    writel(HPET + 0x108, 0xFFFFFFFF);
    writel(HPET + 0x10, 3);
    for (i = 0; i < 100; i++) {
        step(1 * US);
        if (take(0) == 0x20)
            n++, outb(0x20, 0x20);
    }
    CHECK_EQ(n, 1);
    power_off();
}

/* ---- RTC and CMOS ---- */

TEST(rtc_shows_the_time_in_each_format)
{
    power_on(16 * MIB);
    step(250 * MS);
    CHECK_EQ(cmos(0), 0x20);
    CHECK_EQ(cmos(2), 0x13);
    CHECK_EQ(cmos(4), 0x22);
    CHECK_EQ(cmos(6), 3); /* Tuesday */
    CHECK_EQ(cmos(7), 0x14);
    CHECK_EQ(cmos(8), 0x11);
    CHECK_EQ(cmos(9), 0x23);
    CHECK_EQ(cmos(0x32), 0x20);
    CHECK_EQ(cmos(10), 0x26);
    CHECK_EQ(cmos(11), 0x02);
    CHECK_EQ(cmos(13), 0x80);
    cmos_write(11, 0x06); /* binary */
    CHECK_EQ(cmos(0), 20);
    CHECK_EQ(cmos(4), 22);
    CHECK_EQ(cmos(9), 23);
    CHECK_EQ(cmos(0x32), 20);
    cmos_write(11, 0x00); /* BCD, 12 hours */
    CHECK_EQ(cmos(4), 0x90); /* 10 PM */
    step(2 * 3600 * NS_PER_SEC);
    CHECK_EQ(cmos(4), 0x12); /* 12 AM */
    CHECK_EQ(cmos(7), 0x15);
    CHECK_EQ(cmos(6), 4);
    power_off();
}

/* MC146818A: UIP is set 244 us before the update; a reader that waits for it to fall has a second to itself. */
TEST(rtc_update_in_progress_precedes_the_second)
{
    power_on(16 * MIB);
    step(999 * MS);
    CHECK_EQ(cmos(10) & 0x80, 0);
    step(800 * US);
    CHECK_EQ(cmos(10) & 0x80, 0x80);
    CHECK_EQ(cmos(0), 0x20);
    step(200 * US);
    CHECK_EQ(cmos(10) & 0x80, 0);
    CHECK_EQ(cmos(0), 0x21);
    power_off();
}

/* Linux's mc146818_set_time(): SET, divider reset, bytes, both restored; the next second comes after half a second. */
TEST(rtc_is_set_as_linux_does)
{
    power_on(16 * MIB);
    step(300 * MS);
    cmos_write(11, 0x82);
    cmos_write(10, 0x76);
    cmos_write(9, 0x31), cmos_write(8, 0x02), cmos_write(7, 0x28), cmos_write(4, 0x23), cmos_write(2, 0x59), cmos_write(0, 0x59);
    step(3 * NS_PER_SEC);
    CHECK_EQ(cmos(0), 0x59);
    cmos_write(11, 0x02);
    CHECK_EQ(cmos(0), 0x59);
    cmos_write(10, 0x26);
    step(499 * MS);
    CHECK_EQ(cmos(0), 0x59);
    step(2 * MS);
    CHECK_EQ(cmos(0), 0x00);
    CHECK_EQ(cmos(7), 0x01);
    CHECK_EQ(cmos(8), 0x03);
    CHECK_EQ(cmos(9), 0x31); /* 2031 is no leap year */
    CHECK_EQ(cmos(6), 7); /* 2031-03-01 is a Saturday */
    power_off();
}

TEST(rtc_periodic_interrupt_runs_at_its_rate_and_waits_for_c)
{
    unsigned n = 0, i;
    power_on(16 * MIB);
    pic_setup();
    outb(0xFF, 0x21 & ~0u), outb(0xFB, 0x21), outb(0xFE, 0xA1);
    (void)cmos(12);
    cmos_write(11, 0x42); /* PIE; rate 6: 1024 Hz */
    for (i = 0; i < 10000; i++) {
        step(100 * US);
        if (take(0) == 0x28) {
            CHECK_EQ(cmos(12) & 0xC0, 0xC0);
            CHECK_EQ(cmos(12), 0);
            outb(0x20, 0xA0), outb(0x20, 0x20);
            n++;
        }
    }
    CHECK(n >= 1023 && n <= 1025);
    step(50 * MS); /* C not read: the line stays up, no more edges */
    CHECK_EQ(take(0), 0x28);
    outb(0x20, 0xA0), outb(0x20, 0x20);
    step(50 * MS);
    CHECK_EQ(take(0), -1);
    power_off();
}

TEST(rtc_update_and_alarm_interrupts)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0xFB, 0x21), outb(0xFE, 0xA1);
    step(100 * MS);
    (void)cmos(12);
    cmos_write(11, 0x12); /* UIE */
    step(800 * MS);
    CHECK_EQ(take(0), -1);
    step(200 * MS);
    CHECK_EQ(take(0), 0x28);
    CHECK_EQ(cmos(12) & 0xB0, 0x90); /* the periodic flag comes by itself */
    outb(0x20, 0xA0), outb(0x20, 0x20);
    cmos_write(5, 0xFF), cmos_write(3, 0x15), cmos_write(1, 0x10); /* any hour, :15:10 */
    cmos_write(11, 0x22);
    step(108 * NS_PER_SEC); /* from 22:13:21 to 22:15:09 */
    CHECK_EQ(take(0), -1);
    step(1 * NS_PER_SEC);
    CHECK_EQ(take(0), 0x28);
    CHECK_EQ(cmos(12) & 0xB0, 0xB0); /* alarm and update */
    CHECK_EQ(cmos(0), 0x10);
    power_off();
}

/* SET clears UIE (data sheet); C is clear after a read; flags come without enables, too. */
TEST(rtc_flags_come_without_enables)
{
    power_on(16 * MIB);
    step(2 * NS_PER_SEC);
    CHECK_EQ(cmos(12), 0x50); /* periodic and update, no IRQF */
    CHECK_EQ(cmos(12), 0x00);
    cmos_write(11, 0x92);
    CHECK_EQ(cmos(11), 0x82);
    power_off();
}

/* What QEMU's pc puts there for 512 MiB, and SeaBIOS reads. */
TEST(cmos_tells_memory_boot_order_and_floppies)
{
    power_on(512 * MIB);
    add(&fdc_class, "");
    chipset_fill_cmos(&m.e);
    CHECK_EQ(cmos(0x15), 0x80);
    CHECK_EQ(cmos(0x16), 0x02);
    CHECK_EQ(cmos(0x17), 0xFF);
    CHECK_EQ(cmos(0x18), 0xFF);
    CHECK_EQ(cmos(0x34), 0x00);
    CHECK_EQ(cmos(0x35), 0x1F);
    CHECK_EQ(cmos(0x5B), 0);
    CHECK_EQ(cmos(0x5F), 1);
    CHECK_EQ(cmos(0x3D), 0x12);
    CHECK_EQ(cmos(0x38), 0x30);
    CHECK_EQ(cmos(0x10), 0x50);
    CHECK_EQ(cmos(0x14), 0x07);
    cmos_write(0x0F, 0x0A); /* shutdown byte */
    reset_device(m.e.devices);
    CHECK_EQ(cmos(0x0F), 0x0A);
    CHECK_EQ(inb(0x70), 0xFF);
    power_off();
}

/* ---- DMA ---- */

TEST(dma_moves_bytes_counts_and_masks_at_terminal_count)
{
    uint8_t data[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    bool tc;
    power_on(16 * MIB);
    outb(0x06, 0x0A);                     /* mask channel 2 */
    outb(0x00, 0x0C);
    outb(0x46, 0x0B);                     /* single, write to memory */
    outb(0x34, 0x04), outb(0x12, 0x04), outb(0x05, 0x81); /* 051234h */
    outb(0x05, 0x05), outb(0x00, 0x05);   /* 6 bytes */
    CHECK_EQ(dma8237_transfer(&m.e, 2, data, 4, true, &tc), 0); /* masked */
    outb(0x02, 0x0A);
    CHECK_EQ(dma8237_transfer(&m.e, 2, data, 4, true, &tc), 4);
    CHECK(!tc);
    CHECK_EQ(inb(0x04), 0x38);
    CHECK_EQ(inb(0x04), 0x12);
    CHECK_EQ(inb(0x05), 1);
    CHECK_EQ(inb(0x05), 0);
    CHECK_EQ(dma8237_transfer(&m.e, 2, data + 4, 4, true, &tc), 2);
    CHECK(tc);
    CHECK_EQ(mem_ld(&m.e, 0x51234, 4), 0x04030201);
    CHECK_EQ(mem_ld(&m.e, 0x51238, 4), 0x0605);
    CHECK_EQ(inb(0x08) & 0x0F, 0x04);
    CHECK_EQ(inb(0x08) & 0x0F, 0x00);
    CHECK_EQ(inb(0x05), 0xFF);
    CHECK_EQ(inb(0x05), 0xFF);
    CHECK_EQ(inb(0x0F) & 0x04, 0x04);
    power_off();
}

TEST(dma_word_channels_and_autoinitialize)
{
    uint8_t data[8] = { 0 };
    bool tc;
    power_on(16 * MIB);
    mem_st(&m.e, 0x60000 + 0x2468, UINT64_C(0x8877665544332211), 8);
    outb(0x00, 0xD8);
    outb(0x59, 0xD6);                     /* channel 5: read from memory, autoinitialize */
    outb(0x34, 0xC4), outb(0x12, 0xC4), outb(0x07, 0x8B); /* word address 1234h; page bit 0 is not used */
    outb(0x03, 0xC6), outb(0x00, 0xC6);
    outb(0x01, 0xD4);
    CHECK_EQ(dma8237_transfer(&m.e, 5, data, 8, false, &tc), 8);
    CHECK(tc);
    CHECK_EQ(ld64le(data), UINT64_C(0x8877665544332211));
    CHECK_EQ(dma8237_transfer(&m.e, 5, data, 2, false, &tc), 2); /* begun anew */
    CHECK(!tc);
    CHECK_EQ(data[0], 0x11);
    power_off();
}

/* The address counter is 16 bits: a transfer wraps inside its 64 KiB. */
TEST(dma_wraps_in_its_page)
{
    uint8_t data[4] = { 1, 2, 3, 4 };
    bool tc;
    power_on(16 * MIB);
    outb(0x00, 0x0C), outb(0x45, 0x0B);
    outb(0xFE, 0x02), outb(0xFF, 0x02), outb(0x03, 0x83);
    outb(0x03, 0x03), outb(0x00, 0x03), outb(0x01, 0x0A);
    CHECK_EQ(dma8237_transfer(&m.e, 1, data, 4, true, &tc), 4);
    CHECK_EQ(mem_ld(&m.e, 0x3FFFE, 2), 0x0201);
    CHECK_EQ(mem_ld(&m.e, 0x30000, 2), 0x0403);
    CHECK_EQ(mem_ld(&m.e, 0x40000, 2), 0);
    power_off();
}

/* ---- ACPI ---- */

static void pm_setup(void)
{
    config_write(11, 0x40, 0x601, 4);
    config_write(11, 0x80, 0x01, 1);
}

TEST(pm_timer_runs_at_3_579545_mhz)
{
    uint32_t a, b;
    power_on(16 * MIB);
    CHECK_EQ(inl(0x608), 0xFFFFFFFF);
    pm_setup();
    a = inl(0x608);
    step(100 * MS);
    b = inl(0x608);
    CHECK(b - a >= 357953 && b - a <= 357956);
    step(5 * NS_PER_SEC);
    CHECK_EQ(inl(0x608) >> 24, 0);
    config_write(11, 0x40, 0xB001, 4); /* firmware may move it */
    CHECK_EQ(inl(0x608), 0xFFFFFFFF);
    CHECK(inl(0xB008) != 0xFFFFFFFF);
    power_off();
}

TEST(pm_timer_overflow_power_button_and_sci)
{
    power_on(16 * MIB);
    pic_setup();
    outb(0x02, 0x4D1); /* IRQ 9 level */
    outb(0xFB, 0x21);
    pm_setup();
    outw(0xFFFF, 0x600);
    CHECK_EQ(inw(0x604) & 1, 0);
    outb(0xF1, 0xB2); /* ACPI enable */
    CHECK_EQ(inw(0x604) & 1, 1);
    CHECK_EQ(config_read(11, 0x58) & 0x02000000, 0x02000000); /* APMC_EN: SeaBIOS does not wait for an SMI */
    outw(0x0101, 0x602);
    step(2 * NS_PER_SEC);
    CHECK_EQ(take(0), -1);
    step(NS_PER_SEC / 2); /* bit 23 changes every 2.3435 s */
    CHECK_EQ(inw(0x600) & 1, 1);
    CHECK_EQ(take(0), 0x29);
    outw(0x0001, 0x600);
    CHECK_EQ(inw(0x600) & 1, 0);
    outb(0x20, 0xA0), outb(0x20, 0x20);
    CHECK_EQ(take(0), -1);
    acpi_power_button(&m.e);
    CHECK_EQ(inw(0x600) & 0x100, 0x100);
    CHECK_EQ(take(0), 0x29);
    outw(0x0100, 0x600);
    outb(0x20, 0xA0), outb(0x20, 0x20);
    CHECK_EQ(take(0), -1);
    outb(0xF0, 0xB2);
    CHECK_EQ(inw(0x604) & 1, 0);
    power_off();
}

TEST(acpi_s5_powers_off)
{
    power_on(16 * MIB);
    pm_setup();
    outw(0x0001, 0x604);
    outw(0x0001, 0x604);
    CHECK_EQ(m.requests, 0);
    outw(0x2401, 0x604); /* S3: awake again at once */
    CHECK_EQ(m.requests, 0);
    CHECK_EQ(inw(0x600) & 0x8000, 0x8000);
    outw(0x2001, 0x604);
    CHECK_EQ(m.requests, REQ_SHUTDOWN);
    CHECK_EQ(inw(0x604) & 0x2000, 0); /* SLP_EN reads 0 */
    power_off();
}

TEST(smbus_transfer_ends_with_device_error)
{
    power_on(16 * MIB);
    config_write(11, 0x90, 0x701, 4);
    outb(0xFF, 0x700);
    outb(0xA1, 0x704);
    outb(0x48, 0x702);
    CHECK_EQ(inb(0x700), 0x04);
    outb(0x04, 0x700);
    CHECK_EQ(inb(0x700), 0x00);
    outw(0xFFFF, 0xAFE0);
    CHECK_EQ(inl(0xAFE0), 0);
    power_off();
}

/* ---- fw_cfg ---- */

static uint32_t fw_be32(void)
{
    uint32_t v = 0;
    unsigned i;
    for (i = 0; i < 4; i++)
        v = v << 8 | inb(0x511);
    return v;
}

/* The key of a file, by the directory; 0: there is none. */
static unsigned fw_find(const char *name, uint32_t *size)
{
    uint32_t n, i;
    outw(0x19, 0x510);
    n = fw_be32();
    for (i = 0; i < n; i++) {
        char entry[56];
        uint32_t bytes = fw_be32();
        unsigned key = inb(0x511), k;
        key = key << 8 | inb(0x511);
        inb(0x511), inb(0x511);
        for (k = 0; k < 56; k++)
            entry[k] = (char)inb(0x511);
        if (!strcmp(entry, name)) {
            *size = bytes;
            return key;
        }
    }
    return 0;
}

TEST(fw_cfg_has_signature_ids_and_files)
{
    uint32_t size = 0;
    unsigned key;
    power_on(16 * MIB);
    outw(0, 0x510);
    CHECK_EQ(fw_be32(), 0x51454D55);
    CHECK_EQ(inb(0x511), 0); /* past the end */
    outw(1, 0x510);
    CHECK_EQ(inb(0x511), 3);
    outw(5, 0x510);
    CHECK_EQ(inb(0x511), 2);
    outw(0x7777, 0x510);
    CHECK_EQ(inb(0x511), 0);
    CHECK_EQ(fw_cfg_add_file(&m.e, "opt/org.test/a", "hello", 5), 0);
    CHECK_EQ(fw_cfg_add_file(&m.e, "opt/org.test/a", "bye", 3), 0); /* replaced */
    key = fw_find("opt/org.test/a", &size);
    CHECK(key >= 0x20);
    CHECK_EQ(size, 3);
    outw(key, 0x510);
    CHECK_EQ(fw_be32(), 0x62796500);
    key = fw_find("etc/e820", &size);
    CHECK(key != 0);
    CHECK_EQ(size, 20);
    power_off();
}

/* QEMU docs/specs/fw_cfg, "Guest-side DMA interface". */
TEST(fw_cfg_dma_selects_skips_and_reads)
{
    uint32_t size;
    unsigned key;
    power_on(16 * MIB);
    CHECK_EQ(inl(0x514), 0x554D4551); /* "QEMU" */
    CHECK_EQ(inl(0x518), 0x47464320); /* " CFG" */
    fw_cfg_add_file(&m.e, "x", "0123456789", 10);
    key = fw_find("x", &size);
    mem_st(&m.e, 0x1000, bswap32(key << 16 | 8 | 4), 4); /* select, skip 2 */
    mem_st(&m.e, 0x1004, bswap32(2), 4);
    mem_st(&m.e, 0x1008, 0, 8);
    outl(0, 0x514);
    outl(bswap32(0x1000), 0x518);
    CHECK_EQ(readl(0x1000), 0);
    mem_st(&m.e, 0x1000, bswap32(2), 4);                 /* read 12: 8 and four zeros */
    mem_st(&m.e, 0x1004, bswap32(12), 4);
    mem_st(&m.e, 0x1008, bswap64(0x2000), 8);
    mem_st(&m.e, 0x2008, 0xFFFFFFFF, 4);
    outl(bswap32(0x1000), 0x518);
    CHECK_EQ(mem_ld(&m.e, 0x2000, 8), UINT64_C(0x3938373635343332));
    CHECK_EQ(readl(0x2008), 0);
    mem_st(&m.e, 0x1000, bswap32(16), 4);                /* write: refused */
    outl(bswap32(0x1000), 0x518);
    CHECK_EQ(readl(0x1000), bswap32(1));
    mem_st(&m.e, 0x1000, bswap32(2), 4);                 /* read 4 GiB: an error where the memory ends */
    mem_st(&m.e, 0x1004, bswap32(0xFFFFFFFF), 4);
    mem_st(&m.e, 0x1008, bswap64(16 * MIB - 4096), 8);
    mem_st(&m.e, 16 * MIB - 8, UINT64_MAX, 8);
    outl(bswap32(0x1000), 0x518);
    CHECK_EQ(readl(0x1000), bswap32(1));
    CHECK_EQ(mem_ld(&m.e, 16 * MIB - 8, 8), 0);
    power_off();
}

/* ---- floppy ---- */

static void floppy_on(uint64_t bytes)
{
    uint64_t i;
    power_on(16 * MIB);
    m.disk_bytes = malloc((size_t)bytes);
    for (i = 0; i < bytes; i++)
        m.disk_bytes[i] = (uint8_t)(i / 512 + i);
    m.disk.emu = &m.e;
    m.disk.size_bytes = bytes;
    m.disk.image = (struct image *)(void *)&m.disk_bytes; /* only its presence counts here */
    add(&fdc_class, "driveA=fd");
    reset_device(m.e.devices);
    pic_setup();
    outb(0xBF, 0x21);
}

static void fdc_send(const uint8_t *bytes, unsigned n)
{
    while (n--) {
        if ((inb(0x3F4) & 0xC0) != 0x80)
            printf("fdc does not take bytes: msr %02x\n", inb(0x3F4));
        outb(*bytes++, 0x3F5);
    }
}
static void fdc_receive(uint8_t *bytes, unsigned n)
{
    while (n--)
        *bytes++ = (inb(0x3F4) & 0xC0) == 0xC0 ? inb(0x3F5) : 0xEE;
}
static bool fdc_irq(void)
{
    int v = take(0);
    outb(0x20, 0x20);
    return v == 0x26;
}
static void fdc_start(void)
{
    uint8_t r[2];
    unsigned i;
    outb(0x00, 0x3F2);
    outb(0x1C, 0x3F2);
    step(1 * MS);
    fdc_irq();
    for (i = 0; i < 4; i++) {
        fdc_send((const uint8_t *)"\x08", 1);
        fdc_receive(r, 2);
    }
    fdc_send((const uint8_t *)"\x03\xAF\x02", 3); /* specify: DMA */
}
static void dma_program(uint32_t gpa, uint32_t size, unsigned mode)
{
    outb(0x06, 0x0A), outb(0, 0x0C), outb(mode, 0x0B);
    outb(gpa & 0xFF, 0x04), outb(gpa >> 8 & 0xFF, 0x04), outb(gpa >> 16, 0x81);
    outb((size - 1) & 0xFF, 0x05), outb((size - 1) >> 8, 0x05), outb(0x02, 0x0A);
}

/* 82077AA §4.3, §5.2.4: after a reset an interrupt, and four SENSE INTERRUPTs answer C0h-C3h. */
TEST(floppy_reset_polls_four_drives)
{
    uint8_t r[2];
    unsigned i;
    floppy_on(1440 * 1024);
    CHECK_EQ(inb(0x3F4), 0x80);
    outb(0x00, 0x3F2);
    CHECK_EQ(inb(0x3F4), 0x00);
    outb(0x0C, 0x3F2);
    CHECK(!fdc_irq());
    step(1 * MS);
    CHECK(fdc_irq());
    for (i = 0; i < 4; i++) {
        fdc_send((const uint8_t *)"\x08", 1);
        fdc_receive(r, 2);
        CHECK_EQ(r[0], 0xC0 + i);
    }
    fdc_send((const uint8_t *)"\x08", 1);
    fdc_receive(r, 1);
    CHECK_EQ(r[0], 0x80);
    fdc_send((const uint8_t *)"\x10", 1);
    fdc_receive(r, 1);
    CHECK_EQ(r[0], 0x90); /* 82077 */
    fdc_send((const uint8_t *)"\x13\x00\x1A\x00", 4); /* no polling */
    fdc_send((const uint8_t *)"\x94", 1);
    fdc_receive(r, 1);
    CHECK_EQ(r[0], 0x10);
    outb(0x08, 0x3F2); /* 82077AA 5.2: LOCK does not keep POLL: the reset is reported */
    outb(0x0C, 0x3F2);
    step(1 * MS);
    CHECK(fdc_irq());
    power_off();
}

TEST(floppy_recalibrates_seeks_and_clears_the_change_line)
{
    uint8_t r[2];
    floppy_on(1440 * 1024);
    fdc_start();
    CHECK_EQ(inb(0x3F7) & 0x80, 0x80);
    fdc_send((const uint8_t *)"\x0F\x00\x05", 3);
    CHECK_EQ(inb(0x3F4) & 0x0F, 1);
    step(1 * MS);
    CHECK(fdc_irq());
    fdc_send((const uint8_t *)"\x08", 1);
    fdc_receive(r, 2);
    CHECK_EQ(r[0], 0x20);
    CHECK_EQ(r[1], 5);
    CHECK_EQ(inb(0x3F7) & 0x80, 0);
    fdc_send((const uint8_t *)"\x07\x00", 2);
    step(1 * MS);
    CHECK(fdc_irq());
    fdc_send((const uint8_t *)"\x08", 1);
    fdc_receive(r, 2);
    CHECK_EQ(r[0], 0x20);
    CHECK_EQ(r[1], 0);
    fdc_send((const uint8_t *)"\x07\x01", 2); /* no drive B */
    step(1 * MS);
    fdc_irq();
    fdc_send((const uint8_t *)"\x08", 1);
    fdc_receive(r, 2);
    CHECK_EQ(r[0], 0x71);
    m.disk.media_changed(m.disk.opaque);
    CHECK_EQ(inb(0x3F7) & 0x80, 0x80);
    power_off();
}

TEST(floppy_reads_across_heads_by_dma)
{
    uint8_t r[7];
    unsigned i;
    floppy_on(1440 * 1024);
    fdc_start();
    outb(0, 0x3F7);
    dma_program(0x20000, 3 * 512, 0x46);
    fdc_send((const uint8_t *)"\xE6\x00\x00\x00\x11\x02\x12\x1B\xFF", 9); /* MT, from sector 17 */
    CHECK_EQ(inb(0x3F4), 0x10);
    step(10 * MS);
    CHECK(fdc_irq());
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x04);
    CHECK_EQ(r[1], 0);
    CHECK_EQ(r[2], 0);
    CHECK_EQ(r[3], 0);
    CHECK_EQ(r[4], 1);
    CHECK_EQ(r[5], 2);
    CHECK_EQ(r[6], 2);
    for (i = 0; i < 3 * 512; i++)
        CHECK_EQ(mem_ld(&m.e, 0x20000 + i, 1), m.disk_bytes[16 * 512 + i]);
    CHECK_EQ(inb(0x3F4), 0x80);
    power_off();
}

TEST(floppy_writes_by_dma_and_respects_the_tab)
{
    uint8_t r[7];
    floppy_on(1440 * 1024);
    fdc_start();
    mem_st(&m.e, 0x20000, 0xCAFEF00D, 4);
    dma_program(0x20000, 512, 0x4A);
    fdc_send((const uint8_t *)"\x45\x04\x00\x01\x03\x02\x12\x1B\xFF", 9); /* head 1, sector 3 */
    step(10 * MS);
    CHECK(fdc_irq());
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x04);
    CHECK_EQ(ld32le(m.disk_bytes + (18 + 2) * 512), 0xCAFEF00D);
    m.disk.read_only = true;
    dma_program(0x20000, 512, 0x4A);
    fdc_send((const uint8_t *)"\x45\x00\x00\x00\x01\x02\x12\x1B\xFF", 9);
    step(10 * MS);
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x40);
    CHECK_EQ(r[1], 0x02);
    fdc_send((const uint8_t *)"\x04\x00", 2);
    fdc_receive(r, 1);
    CHECK_EQ(r[0], 0x78); /* protected, ready, track 0, two-sided */
    power_off();
}

TEST(floppy_reads_by_fifo_without_dma)
{
    uint8_t r[7];
    unsigned i;
    floppy_on(1440 * 1024);
    fdc_start();
    fdc_send((const uint8_t *)"\x03\xAF\x03", 3); /* specify: no DMA */
    fdc_send((const uint8_t *)"\x46\x00\x00\x00\x12\x02\x12\x1B\xFF", 9);
    CHECK_EQ(inb(0x3F4), 0x30);
    step(10 * MS);
    CHECK(fdc_irq());
    for (i = 0; i < 512; i++) {
        CHECK_EQ(inb(0x3F4), 0xF0);
        CHECK_EQ(inb(0x3F5), m.disk_bytes[17 * 512 + i]);
    }
    step(10 * MS);
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x40);
    CHECK_EQ(r[1], 0x80); /* no terminal count: end of track */
    power_off();
}

TEST(floppy_errors_name_their_cause)
{
    uint8_t r[7];
    floppy_on(1440 * 1024);
    fdc_start();
    outb(2, 0x3F7); /* 250 kbit/s: not a 1.44 MB disk's rate */
    fdc_send((const uint8_t *)"\x4A\x00", 2);
    step(1 * MS);
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x40);
    CHECK_EQ(r[1], 0x01);
    outb(0, 0x3F7);
    fdc_send((const uint8_t *)"\x4A\x00", 2);
    step(1 * MS);
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x00);
    CHECK_EQ(r[6], 2);
    fdc_send((const uint8_t *)"\x46\x00\x05\x00\x01\x02\x12\x1B\xFF", 9); /* the head is over track 0 */
    step(1 * MS);
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x40);
    CHECK_EQ(r[1], 0x04);
    CHECK_EQ(r[2], 0x10);
    fdc_send((const uint8_t *)"\x46\x00\x00\x00\x13\x02\x13\x1B\xFF", 9); /* sector 19 of 18 */
    step(1 * MS);
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0x40);
    CHECK_EQ(r[1], 0x04);
    outb(0x1F, 0x3F5); /* no such command */
    fdc_receive(r, 1);
    CHECK_EQ(r[0], 0x80);
    power_off();
}

TEST(floppy_formats_a_track)
{
    uint8_t r[7];
    unsigned i;
    floppy_on(720 * 1024);
    fdc_start();
    outb(2, 0x3F7);
    for (i = 0; i < 9; i++)
        mem_st(&m.e, 0x20000 + 4 * i, 0x02000000u | (i + 1) << 16, 4);
    dma_program(0x20000, 36, 0x4A);
    fdc_send((const uint8_t *)"\x4D\x00\x02\x09\x54\xF6", 6);
    step(10 * MS);
    CHECK(fdc_irq());
    fdc_receive(r, 7);
    CHECK_EQ(r[0], 0);
    CHECK_EQ(r[1], 0);
    CHECK_EQ(m.disk_bytes[0], 0xF6);
    CHECK_EQ(m.disk_bytes[9 * 512 - 1], 0xF6);
    CHECK_EQ(m.disk_bytes[9 * 512], 9);
    CHECK_EQ(fdc_drive_type(&m.e, 0), 4);
    CHECK_EQ(fdc_drive_type(&m.e, 1), 0);
    power_off();
}

TEST(floppy_reset_in_a_transfer_cancels_it)
{
    uint8_t r[1];
    floppy_on(1440 * 1024);
    fdc_start();
    fdc_send((const uint8_t *)"\x46\x00\x00\x00\x01\x02\x12\x1B\xFF", 9);
    outb(0x00, 0x3F2);
    outb(0x1C, 0x3F2);
    step(10 * MS);
    CHECK_EQ(inb(0x3F4), 0x80);
    fdc_send((const uint8_t *)"\x10", 1);
    fdc_receive(r, 1);
    CHECK_EQ(r[0], 0x90);
    power_off();
}

/* ---- test devices ---- */

TEST(debug_devices_print_and_exit)
{
    power_on(16 * MIB);
    CHECK(add(&debugcon_class, "iobase=0xe9,chardev=log") != NULL);
    CHECK(add(&debug_exit_class, "iobase=0xf4,iosize=4") != NULL);
    CHECK(add(&debugcon_class, "chardev=nobody") == NULL);
    CHECK_EQ(inb(0xE9), 0xE9);
    outb('o', 0xE9), outb('k', 0xE9);
    CHECK(!strcmp(m.printed, "ok"));
    outl(0x10, 0xF4);
    CHECK_EQ(m.exit_status, 33);
    power_off();
}

TEST(pc_testdev_drives_lines_and_keeps_cells)
{
    power_on(16 * MIB);
    apic_setup();
    add(&pc_testdev_class, "");
    outl(0x12345678, 0xE0);
    CHECK_EQ(inl(0xE0), 0x12345678);
    CHECK_EQ(inb(0xE1), 0x56);
    outb(0xAA, 0xE2);
    CHECK_EQ(inl(0xE8), 0x12AA5678);
    mem_st(&m.e, 0xFF000100, UINT64_C(0x1122334455667788), 8);
    CHECK_EQ(mem_ld(&m.e, 0xFF000104, 4), 0x11223344);
    io_write(0x10 + 2 * 14, 0x78);
    outb(1, 0x200E);
    CHECK_EQ(take(0), 0x78);
    outb(0, 0x200E);
    power_off();
}

/* ---- the whole ---- */

TEST(destroyed_chips_leave_nothing_behind)
{
    floppy_on(1440 * 1024);
    add(&pci_testdev_class, "addr=5.0");
    region_remove(&m.e, &m.e.memory, &m.e.ram_low);
    while (m.e.devices) {
        struct device *d = m.e.devices;
        m.e.devices = d->next;
        if (d->cls->destroy)
            d->cls->destroy(d);
        emu_free(&m.e, d);
    }
    CHECK(m.e.memory.regions == NULL);
    CHECK(m.e.ports.regions == NULL);
    CHECK_EQ(m.e.timer_count, 0);
    CHECK(m.e.pci == NULL && m.e.fw_cfg == NULL && m.e.lapics == NULL);
    power_off();
}

/* Random accesses by a hostile guest: nothing crashes, no endless loop, time goes on. */
TEST(random_accesses_do_no_harm)
{
    uint64_t seed = 12345;
    unsigned i;
    floppy_on(1440 * 1024);
    add(&pci_testdev_class, "addr=5.0");
    add(&pc_testdev_class, "");
    for (i = 0; i < 300000; i++) {
        static const uint16_t bases[] = { 0x00, 0x20, 0x40, 0x60, 0x70, 0x80, 0x92, 0xA0, 0xB2, 0xC0, 0xE0, 0x3F0, 0x4D0, 0x510, 0x514, 0x600, 0xCF8, 0xCFC, 0xAFE0, 0xB100 };
        static const uint64_t windows[] = { 0xFEE00000, 0xFEC00000, 0xFED00000, 0xFED00100, 0xFEE01000, 0xC0000, 0xE0000000 };
        uint64_t value;
        unsigned size;
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        value = seed >> 20;
        size = 1u << (seed >> 60 & 3);
        if (seed >> 57 & 1) {
            uint64_t gpa = windows[(seed >> 40) % EMU_ARRAY_LEN(windows)] + (seed >> 33 & 0x3FF & ~(uint64_t)(size - 1));
            m.e.current_cpu = &m.cpu[seed >> 59 & 1];
            if (seed >> 58 & 1)
                mem_st(&m.e, gpa, value, size);
            else
                mem_ld(&m.e, gpa, size);
        } else {
            uint16_t port = (uint16_t)(bases[(seed >> 40) % EMU_ARRAY_LEN(bases)] + (seed >> 33 & 15));
            size = size == 8 ? 4 : size;
            if (port >= 0x514 && port < 0x51C && i % 64) /* a request of gigabytes takes its time: rarely */
                continue;
            if (seed >> 58 & 1)
                port_write(&m.e, port, (uint32_t)value, size);
            else
                port_read(&m.e, port, size);
        }
        take(seed >> 56 & 1);
        if (i % 16 == 0)
            step((int64_t)(seed >> 44 & 0xFFF));
    }
    CHECK(emu_now_ns(&m.e) > 0);
    power_off();
}

TEST_MAIN(TEST_CASE(pci_functions_have_the_ids_that_drivers_know), TEST_CASE(pci_address_register_takes_dwords_only), TEST_CASE(pci_read_only_bits_stay),
          TEST_CASE(pci_bars_are_sized_moved_and_gated), TEST_CASE(pci_testdev_counts_matching_accesses),
          TEST_CASE(pci_intx_lines_are_routed_shared_and_counted), TEST_CASE(msi_message_reaches_the_apic_and_needs_bus_mastering),
          TEST_CASE(msix_vector_waits_for_its_mask), TEST_CASE(pam_switches_reads_and_writes_apart), TEST_CASE(smram_opens_and_locks),
          TEST_CASE(resets_come_from_cf9_and_port_92), TEST_CASE(pic_delivers_by_priority_and_nests),
          TEST_CASE(pic_edge_needs_a_new_edge_and_level_repeats), TEST_CASE(pic_answers_a_vanished_request_with_spurious_7),
          TEST_CASE(pic_masks_mask_and_special_mask_mode_lets_lower_through), TEST_CASE(pic_rotates_and_ends_by_itself), TEST_CASE(pic_polls),
          TEST_CASE(pic_special_fully_nested_mode_lets_the_slave_nest), TEST_CASE(ioapic_shows_its_version_and_24_masked_pins),
          TEST_CASE(ioapic_timer_is_on_pin_2), TEST_CASE(ioapic_masked_edge_is_lost), TEST_CASE(ioapic_level_waits_for_eoi_and_repeats),
          TEST_CASE(ioapic_switch_to_edge_clears_remote_irr), TEST_CASE(lapic_power_on_state), TEST_CASE(lapic_orders_interrupts_by_priority_class),
          TEST_CASE(lapic_passes_the_8259_through_lint0), TEST_CASE(lapic_software_disable_masks_local_vectors),
          TEST_CASE(lapic_timer_counts_fires_and_repeats), TEST_CASE(lapic_timer_that_has_ended_interrupts_whatever_is_written_then), TEST_CASE(lapic_tsc_deadline_fires_once_and_clears),
          TEST_CASE(lapic_sends_ipis_by_every_address_form), TEST_CASE(lapic_starts_another_cpu_with_init_and_sipi),
          TEST_CASE(lapic_reports_errors_through_esr), TEST_CASE(lapic_x2apic_mode_speaks_msrs), TEST_CASE(lapic_window_moves_with_its_base),
          TEST_CASE(pit_mode_2_ticks_at_its_rate), TEST_CASE(pit_counts_down_and_latches),
          TEST_CASE(pit_port_61_calibration_takes_the_programmed_time), TEST_CASE(pit_gate_pauses_mode_0),
          TEST_CASE(pit_mode_0_interrupts_once_and_mode_4_strobes_once), TEST_CASE(pit_mode_3_is_a_square_wave),
          TEST_CASE(pit_new_count_waits_for_the_end_of_the_cycle), TEST_CASE(pit_counts_in_bcd), TEST_CASE(port_61_refresh_bit_toggles_every_15_us),
          TEST_CASE(hpet_counts_at_100_mhz), TEST_CASE(hpet_periodic_in_legacy_mode_replaces_the_pit),
          TEST_CASE(hpet_one_shot_fires_and_a_missed_comparator_does_not_hang), TEST_CASE(hpet_level_interrupt_holds_until_status_is_cleared), TEST_CASE(hpet_level_interrupt_that_is_turned_off_lets_its_line_go),
          TEST_CASE(hpet_32_bit_period_near_its_limit_fires_once_a_period),
          TEST_CASE(rtc_shows_the_time_in_each_format), TEST_CASE(rtc_update_in_progress_precedes_the_second), TEST_CASE(rtc_is_set_as_linux_does),
          TEST_CASE(rtc_periodic_interrupt_runs_at_its_rate_and_waits_for_c), TEST_CASE(rtc_update_and_alarm_interrupts),
          TEST_CASE(rtc_flags_come_without_enables), TEST_CASE(cmos_tells_memory_boot_order_and_floppies),
          TEST_CASE(dma_moves_bytes_counts_and_masks_at_terminal_count), TEST_CASE(dma_word_channels_and_autoinitialize), TEST_CASE(dma_wraps_in_its_page),
          TEST_CASE(pm_timer_runs_at_3_579545_mhz), TEST_CASE(pm_timer_overflow_power_button_and_sci), TEST_CASE(acpi_s5_powers_off),
          TEST_CASE(smbus_transfer_ends_with_device_error), TEST_CASE(fw_cfg_has_signature_ids_and_files), TEST_CASE(fw_cfg_dma_selects_skips_and_reads),
          TEST_CASE(floppy_reset_polls_four_drives), TEST_CASE(floppy_recalibrates_seeks_and_clears_the_change_line),
          TEST_CASE(floppy_reads_across_heads_by_dma), TEST_CASE(floppy_writes_by_dma_and_respects_the_tab),
          TEST_CASE(floppy_reads_by_fifo_without_dma), TEST_CASE(floppy_errors_name_their_cause), TEST_CASE(floppy_formats_a_track),
          TEST_CASE(floppy_reset_in_a_transfer_cancels_it), TEST_CASE(debug_devices_print_and_exit), TEST_CASE(pc_testdev_drives_lines_and_keeps_cells),
          TEST_CASE(destroyed_chips_leave_nothing_behind), TEST_CASE(random_accesses_do_no_harm))
