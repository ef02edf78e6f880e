/* tests/guests/chipset.c - a multiboot kernel that tests the PC's chipset from inside: the same program runs under emu and under QEMU.
 *
 * Build      cc -m32 -std=gnu99 -O1 -ffreestanding -nostdlib -static, see chipset.sh. It runs at 2 MiB, so that address line 20 may be closed.
 * Output     COM1: "ok NAME", "FAIL NAME: what", and "N passed, N failed" last; then a byte to port 501h (isa-debug-exit), 0 when all passed.
 * Theory     Clocks are compared with each other, never with the host: each chip must agree with the PM timer (3.579545 MHz).
 *            Interrupts come through 256 stubs that count by vector and record the order.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

__asm__(".section .multiboot, \"a\"\n.balign 4\n.long 0x1BADB002, 0, -0x1BADB002\n"
        ".text\n.globl _start\n_start:\n cli\n cld\n movl $stack_top, %esp\n call guest_main\n1: hlt\n jmp 1b\n"
        ".bss\n.balign 16\nstack: .skip 32768\nstack_top:\n"
        ".text\n.balign 16\n.globl stubs\nstubs:\n.set v, 0\n.rept 256\n.balign 16\n pushl $v\n jmp stub_common\n.set v, v + 1\n.endr\n"
        "stub_common:\n pushal\n movl 32(%esp), %eax\n pushl %eax\n cld\n call on_interrupt\n addl $4, %esp\n popal\n addl $4, %esp\n iretl\n");
extern u8 stubs[];

static inline u8 inb(u16 p) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u16 inw(u16 p) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u32 inl(u16 p) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline void outb(u8 v, u16 p) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(p)); }
static inline void outw(u16 v, u16 p) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(p)); }
static inline void outl(u32 v, u16 p) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(p)); }
static inline void sti(void) { __asm__ volatile("sti" : : : "memory"); }
static inline void cli(void) { __asm__ volatile("cli" : : : "memory"); }
static inline void relax(void) { __asm__ volatile("sti\n nop\n nop\n cli" : : : "memory"); }
#define MMIO(a) (*(volatile u32 *)(a))

/* ---- output ---- */

static int passed, failed, bad;
static const char *test_name;

static void put(char c)
{
    while (!(inb(0x3FD) & 0x20))
        ;
    outb((u8)c, 0x3F8);
}
static void print(const char *s)
{
    while (*s) {
        if (*s == '\n')
            put('\r');
        put(*s++);
    }
}
static void print_hex(u32 v)
{
    int i;
    print("0x");
    for (i = 28; i >= 0; i -= 4)
        put("0123456789abcdef"[v >> i & 15]);
}
static void print_dec(u32 v)
{
    if (v >= 10)
        print_dec(v / 10);
    put((char)('0' + v % 10));
}
static void fail(const char *what, u32 got, u32 low, u32 high)
{
    print("FAIL ");
    print(test_name);
    print(": ");
    print(what);
    print(" is ");
    print_hex(got);
    print(", wanted ");
    print_hex(low);
    if (high != low) {
        print(" to ");
        print_hex(high);
    }
    print("\n");
    bad = 1;
}
#define RANGE(got, low, high) do { u32 g_ = (u32)(got); if (g_ < (u32)(low) || g_ > (u32)(high)) fail(#got, g_, (u32)(low), (u32)(high)); } while (0)
#define IS(got, want) RANGE(got, want, want)

/* ---- interrupts ---- */

static volatile u32 count[256];
static volatile u8 order[64];
static volatile u32 order_size;
static volatile int eoi_pic, eoi_apic;
static u64 idt[256];

#define APIC 0xFEE00000u
#define IOAPIC 0xFEC00000u
#define HPET 0xFED00000u

void on_interrupt(u32 vector);
void on_interrupt(u32 vector)
{
    count[vector]++;
    if (order_size < sizeof order)
        order[order_size++] = (u8)vector;
    if (vector < 32) {
        print("FAIL: exception ");
        print_dec(vector);
        print("\n1 passed, 1 failed\n");
        outb(1, 0x501);
        for (;;)
            __asm__ volatile("cli\n hlt");
    }
    if (vector == 0x28) { /* IRQ 8 */
        outb(0x0C, 0x70);
        inb(0x71);
    }
    if (eoi_pic) {
        if (vector >= 0x28)
            outb(0x20, 0xA0);
        outb(0x20, 0x20);
    }
    if (eoi_apic)
        MMIO(APIC + 0xB0) = 0;
}
static void counts_clear(void)
{
    int i;
    for (i = 0; i < 256; i++)
        count[i] = 0;
    order_size = 0;
}
static void interrupts_setup(void)
{
    struct { u16 limit; u32 base; } __attribute__((packed)) idtr = { sizeof idt - 1, (u32)idt };
    u16 cs;
    int i;
    __asm__("movw %%cs, %0" : "=r"(cs));
    for (i = 0; i < 256; i++) {
        u32 at = (u32)stubs + 16u * (u32)i;
        idt[i] = (u64)(at & 0xFFFF0000u) << 32 | (u64)0x8E00 << 32 | (u32)cs << 16 | (at & 0xFFFF);
    }
    __asm__ volatile("lidt %0" : : "m"(idtr));
}
static void pic_setup(u8 mask, u8 slave_mask)
{
    outb(0x11, 0x20); outb(0x11, 0xA0);
    outb(0x20, 0x21); outb(0x28, 0xA1);
    outb(0x04, 0x21); outb(0x02, 0xA1);
    outb(0x01, 0x21); outb(0x01, 0xA1);
    outb(mask, 0x21); outb(slave_mask, 0xA1);
}
static void io_write(u32 reg, u32 v) { MMIO(IOAPIC) = reg; MMIO(IOAPIC + 0x10) = v; }
static u32 io_read(u32 reg) { MMIO(IOAPIC) = reg; return MMIO(IOAPIC + 0x10); }

/* ---- time ---- */

#define PM_HZ 3579545u
static u16 pm;
static u32 pm_now(void) { return inl((u16)(pm + 8)) & 0xFFFFFF; }
static u32 pm_since(u32 t) { return (pm_now() - t) & 0xFFFFFF; }
static void wait_ms(u32 ms, int open) /* with interrupts open or not */
{
    u32 t = pm_now();
    while (pm_since(t) < ms * (PM_HZ / 1000))
        if (open)
            relax();
}
static void pit0(u16 n) { outb(0x34, 0x43); outb((u8)n, 0x40); outb((u8)(n >> 8), 0x40); }
static void pit0_quiet(void) { outb(0x30, 0x43); }
static u8 cmos(u8 reg) { outb(reg, 0x70); return inb(0x71); }
static void cmos_write(u8 reg, u8 v) { outb(reg, 0x70); outb(v, 0x71); }
static u32 config(u32 devfn, u32 reg) { outl(0x80000000u | devfn << 8 | reg, 0xCF8); return inl(0xCFC); }
static void config_write(u32 devfn, u32 reg, u32 v) { outl(0x80000000u | devfn << 8 | reg, 0xCF8); outl(v, 0xCFC); }
static void config_byte(u32 devfn, u32 reg, u8 v) { outl(0x80000000u | devfn << 8 | (reg & 0xFC), 0xCF8); outb(v, (u16)(0xCFC + (reg & 3))); }

/* ---- tests ---- */

static void pci_ids(void)
{
    IS(config(0x00, 0), 0x12378086);
    IS(config(0x08, 0), 0x70008086);
    IS(config(0x09, 0), 0x70108086);
    IS(config(0x0B, 0), 0x71138086);
    IS(config(0x00, 0x2C), 0x11001AF4);
    IS(config(0xF8, 0), 0xFFFFFFFF);
    outb(0x12, 0xCF8);
    IS(config(0x08, 0xC) >> 16, 0x0080);
}
static void pci_vga_bar_sizes(void)
{
    u32 was = config(0x10, 0x10), command = config(0x10, 4);
    config_write(0x10, 4, command & 0xFFFF & ~2u);
    config_write(0x10, 0x10, 0xFFFFFFFF);
    IS(config(0x10, 0x10), 0xFF000008);
    config_write(0x10, 0x10, was);
    config_write(0x10, 4, command & 0xFFFF);
    IS(config(0x10, 0x10), was);
}
static void pit_channel_2_against_pm_timer(void)
{
    u32 t, best = 0xFFFFFF, i;
    for (i = 0; i < 3; i++) { /* the shortest: the host may take its time elsewhere */
        outb((inb(0x61) & ~2) | 1, 0x61);
        outb(0xB0, 0x43);
        outb(59659 & 255, 0x42);
        outb(59659 >> 8, 0x42);
        t = pm_now();
        while (!(inb(0x61) & 0x20))
            ;
        t = pm_since(t);
        if (t < best)
            best = t;
    }
    RANGE(best, 178977 - 1800, 178977 + 3600);
}
static void pit_read_back(void)
{
    u32 a, b;
    pit0(60000);
    wait_ms(2, 0);
    outb(0xC2, 0x43); /* status and count of channel 0 */
    IS(inb(0x40) & 0x7F, 0x34);
    a = inb(0x40); a |= (u32)inb(0x40) << 8;
    wait_ms(2, 0);
    outb(0x00, 0x43);
    b = inb(0x40); b |= (u32)inb(0x40) << 8;
    RANGE(a, 30000, 57700);
    RANGE(a - b, 2300, 20000);
}
static void pit_irq_0_rate(void)
{
    pic_setup(0xFE, 0xFF);
    eoi_pic = 1;
    pit0(11932); /* 100 Hz */
    relax();
    counts_clear();
    wait_ms(500, 1);
    RANGE(count[0x20], 48, 51);
    pit0_quiet();
    eoi_pic = 0;
}
static void pic_registers(void)
{
    u8 elcr0 = inb(0x4D0), elcr1 = inb(0x4D1);
    pic_setup(0xA5, 0x5A);
    IS(inb(0x21), 0xA5);
    IS(inb(0xA1), 0x5A);
    outb(0xFF, 0x4D0); outb(0xFF, 0x4D1);
    IS(inb(0x4D0), 0xF8);
    IS(inb(0x4D1), 0xDE);
    outb(elcr0, 0x4D0); outb(elcr1, 0x4D1);
    pic_setup(0xFF, 0xFF);
}
static void pic_request_service_and_poll(void)
{
    pit0_quiet();
    pic_setup(0xFE, 0xFF);
    outb(0x0A, 0x20);
    IS(inb(0x20) & 1, 0);
    pit0(1194);
    wait_ms(3, 0);
    IS(inb(0x20) & 1, 1);
    pit0_quiet();
    outb(0x0C, 0x20); /* poll: an acknowledge */
    IS(inb(0x20), 0x80);
    outb(0x0B, 0x20);
    IS(inb(0x20), 0x01);
    outb(0x20, 0x20);
    IS(inb(0x20), 0x00);
    pic_setup(0xFF, 0xFF);
}
static void hpet_against_pm_timer(void)
{
    u32 t, h;
    IS(MMIO(HPET) >> 16, 0x8086);
    RANGE(MMIO(HPET + 4), 1, 100000000);
    MMIO(HPET + 0x10) = 1;
    t = pm_now();
    h = MMIO(HPET + 0xF0);
    wait_ms(100, 0);
    h = MMIO(HPET + 0xF0) - h;
    t = pm_since(t);
    /* microseconds of both */
    h = h / 1000 * (MMIO(HPET + 4) / 1000000);
    t = t / 3579 * 1000;
    RANGE(h, t - t / 100, t + t / 100);
    MMIO(HPET + 0x10) = 0;
}
static void hpet_periodic_replaces_the_pit(void)
{
    u32 ticks = 20000000u / (MMIO(HPET + 4) / 1000000), saved; /* 20 ms */
    pit0(11932);
    pic_setup(0xFE, 0xFF);
    eoi_pic = 1;
    MMIO(HPET + 0x10) = 0;
    MMIO(HPET + 0xF0) = 0;
    MMIO(HPET + 0xF4) = 0;
    saved = MMIO(HPET + 0x100);
    MMIO(HPET + 0x10) = 3;
    MMIO(HPET + 0x100) = saved | 0x14C;
    MMIO(HPET + 0x108) = ticks;
    MMIO(HPET + 0x108) = ticks;
    relax();
    counts_clear();
    wait_ms(300, 1);
    RANGE(count[0x20], 14, 16); /* the PIT would make 30 */
    MMIO(HPET + 0x100) = saved & ~4u;
    MMIO(HPET + 0x10) = 0;
    relax();
    counts_clear();
    wait_ms(300, 1); /* the PIT again */
    RANGE(count[0x20], 28, 31);
    pit0_quiet();
    pic_setup(0xFF, 0xFF);
    eoi_pic = 0;
}
static void rtc_second_against_pm_timer(void)
{
    u32 t;
    cmos(0x0C);
    while (!(cmos(0x0C) & 0x10))
        ;
    t = pm_now();
    while (!(cmos(0x0C) & 0x10))
        ;
    RANGE(pm_since(t), PM_HZ - PM_HZ / 50, PM_HZ + PM_HZ / 50);
}
static void rtc_update_in_progress_shows(void)
{
    u32 t, i, late = 0xFFFFFF;
    int stepped = 0;
    for (i = 0; i < 5 && !(stepped && late < 3579 * 3); i++) { /* again if the host was elsewhere in these milliseconds */
        u8 second;
        while (!(cmos(0x0A) & 0x80))
            ;
        t = pm_now();
        second = cmos(0);
        while (cmos(0x0A) & 0x80)
            ;
        late = pm_since(t);
        wait_ms(2, 0);
        stepped = cmos(0) != second;
    }
    RANGE(late, 0, 3579 * 3);
    IS(stepped, 1);
}
static void rtc_is_set_and_starts_after_half_a_second(void)
{
    u32 t;
    u8 b = cmos(0x0B), a = cmos(0x0A) & 0x7F;
    cmos_write(0x0B, b | 0x80);
    cmos_write(0x0A, a | 0x70);
    cmos_write(9, 0x31); cmos_write(8, 0x02); cmos_write(7, 0x28); cmos_write(4, 0x23); cmos_write(2, 0x59); cmos_write(0, 0x59);
    cmos_write(0x0B, b);
    cmos_write(0x0A, a);
    t = pm_now();
    IS(cmos(0), 0x59);
    while (cmos(0) == 0x59)
        ;
    RANGE(pm_since(t), PM_HZ / 2 - PM_HZ / 50, PM_HZ / 2 + PM_HZ / 50);
    IS(cmos(7), 0x01);
    IS(cmos(8), 0x03);
    IS(cmos(4), 0x00);
}
static void rtc_periodic_irq_8(void)
{
    u8 b = cmos(0x0B);
    pic_setup(0xFB, 0xFE);
    eoi_pic = 1;
    cmos(0x0C);
    cmos_write(0x0A, 0x2A); /* 64 Hz */
    cmos_write(0x0B, b | 0x40);
    relax();
    counts_clear();
    wait_ms(500, 1);
    RANGE(count[0x28], 31, 33);
    cmos_write(0x0A, 0x26);
    cmos_write(0x0B, b);
    cmos(0x0C);
    pic_setup(0xFF, 0xFF);
    eoi_pic = 0;
}
static void lapic_registers(void)
{
    IS(MMIO(APIC + 0x30), 0x50014);
    MMIO(APIC + 0xF0) = 0x1FF;
    MMIO(APIC + 0x80) = 0xFF;
    IS(MMIO(APIC + 0x80), 0xFF);
    MMIO(APIC + 0x80) = 0;
    IS(MMIO(APIC + 0xA0), 0);
}
static void lapic_timer_against_pm_timer(void)
{
    u32 t, c;
    MMIO(APIC + 0x3E0) = 0x3;     /* divide by 16 */
    MMIO(APIC + 0x320) = 0x100E0; /* masked */
    MMIO(APIC + 0x380) = 0xFFFFFFFF;
    t = pm_now();
    c = MMIO(APIC + 0x390);
    wait_ms(100, 0);
    c -= MMIO(APIC + 0x390);
    t = pm_since(t);
    t = t / 3579 * 1000 * 125 / 2; /* microseconds of the PM timer in steps of 16 ns: 1 GHz before the divider */
    RANGE(c, t - t / 50, t + t / 50);
    MMIO(APIC + 0x380) = 0;
}
static void lapic_timer_interrupts(void)
{
    eoi_apic = 1;
    MMIO(APIC + 0x3E0) = 0xB; /* divide by 1 */
    MMIO(APIC + 0x320) = 0x200E0;
    MMIO(APIC + 0x380) = 10000000; /* 10 ms */
    counts_clear();
    wait_ms(205, 1);
    RANGE(count[0xE0], 19, 21);
    MMIO(APIC + 0x320) = 0xE0; /* one-shot */
    MMIO(APIC + 0x380) = 5000000;
    counts_clear();
    wait_ms(50, 1);
    IS(count[0xE0], 1);
    MMIO(APIC + 0x320) = 0x100E0;
    MMIO(APIC + 0x380) = 0;
    eoi_apic = 0;
}
static void lapic_priorities(void)
{
    eoi_apic = 1;
    counts_clear();
    MMIO(APIC + 0x300) = 0x44045;
    MMIO(APIC + 0x300) = 0x44051;
    MMIO(APIC + 0x300) = 0x44047;
    IS(MMIO(APIC + 0x220), 0x200A0);
    relax();
    IS(order_size, 3);
    IS(order[0], 0x51);
    IS(order[1], 0x47);
    IS(order[2], 0x45);
    IS(MMIO(APIC + 0x220), 0);
    MMIO(APIC + 0x80) = 0x50;
    MMIO(APIC + 0x300) = 0x44055;
    relax();
    IS(count[0x55], 0);
    MMIO(APIC + 0x80) = 0x40;
    relax();
    IS(count[0x55], 1);
    MMIO(APIC + 0x80) = 0;
    eoi_apic = 0;
    MMIO(APIC + 0x300) = 0x44060; /* no EOI: it stays in service */
    relax();
    IS(MMIO(APIC + 0x130), 1);
    IS(MMIO(APIC + 0xA0), 0x60);
    MMIO(APIC + 0xB0) = 0;
    IS(MMIO(APIC + 0x130), 0);
}
static void ioapic_pin_2_is_the_timer(void)
{
    IS(io_read(1), 0x00170020);
    pic_setup(0xFF, 0xFF);
    eoi_apic = 1;
    io_write(0x15, 0);
    io_write(0x14, 0x70);
    pit0(11932);
    relax();
    counts_clear();
    wait_ms(200, 1);
    RANGE(count[0x70], 18, 21);
    io_write(0x14, 0x10070);
    pit0_quiet();
    relax();
    counts_clear();
    wait_ms(20, 1);
    IS(count[0x70], 0);
    eoi_apic = 0;
}
/* SCI (IRQ 9, level) by the PM timer's overflow, raised by hand through its enable bit once the status is there. */
static void acpi_sci_is_level_and_routed(void)
{
    u32 i;
    outb(0xF1, 0xB2);
    for (i = 0; i < 1000 && !(inw((u16)(pm + 4)) & 1); i++)
        ;
    IS(inw((u16)(pm + 4)) & 1, 1);
    outw(0xFFFF, pm);
    for (i = 0; i < 60 && !(inw(pm) & 1); i++) /* bit 23 changes every 2.34 s */
        wait_ms(50, 0);
    IS(inw(pm) & 1, 1);
    io_write(0x10 + 2 * 9 + 1, 0);
    io_write(0x10 + 2 * 9, 0x8071);
    eoi_apic = 0;
    counts_clear();
    outw(1, (u16)(pm + 2));
    relax();
    IS(count[0x71], 1);
    IS(io_read(0x10 + 2 * 9), 0xC071);
    MMIO(APIC + 0xB0) = 0; /* still asserted */
    relax();
    IS(count[0x71], 2);
    outw(0, (u16)(pm + 2));
    MMIO(APIC + 0xB0) = 0;
    relax();
    IS(count[0x71], 2);
    IS(io_read(0x10 + 2 * 9), 0x8071);
    io_write(0x10 + 2 * 9, 0x10000);
    outw(1, pm);
    IS(inw(pm) & 1, 0);
}
static void pam_shadows(void)
{
    u32 was = config(0, 0x5C);
    volatile u32 *at = (volatile u32 *)0xD8000;
    config_byte(0, 0x5D, 0x33); /* D8000h-DFFFFh: RAM */
    at[0] = 0x12345678;
    IS(at[0], 0x12345678);
    config_byte(0, 0x5D, 0x11);
    at[0] = 0x87654321;
    IS(at[0], 0x12345678);
    config_byte(0, 0x5D, 0x00);
    IS(at[0] != 0x12345678, 1);
    config_byte(0, 0x5D, 0x33);
    IS(at[0], 0x12345678);
    config_write(0, 0x5C, was);
}
static void a20_line_closes(void)
{
    volatile u32 *low = (volatile u32 *)0x80000, *high = (volatile u32 *)0x180000;
    u8 was = inb(0x92);
    outb(was | 2, 0x92);
    *low = 1;
    *high = 2;
    IS(*low, 1);
    outb(was & ~3, 0x92);
    IS(*high, 1);
    *high = 3;
    outb((was | 2) & ~1, 0x92);
    IS(*low, 3);
    IS(*high, 2);
}
static void fw_cfg_answers(void)
{
    static struct { u32 control, length, high, low; } __attribute__((aligned(16))) request;
    static volatile u32 answer;
    outw(0, 0x510);
    IS(inb(0x511), 'Q');
    IS(inb(0x511), 'E');
    IS(inl(0x514), 0x554D4551);
    request.control = __builtin_bswap32(2 | 8);
    request.length = __builtin_bswap32(4);
    request.high = 0;
    request.low = __builtin_bswap32((u32)&answer);
    __asm__ volatile("" : : : "memory");
    outl(0, 0x514);
    outl(__builtin_bswap32((u32)&request), 0x518);
    __asm__ volatile("" : : : "memory");
    IS(*(volatile u32 *)&request.control, 0);
    IS(answer, 0x554D4551);
}
static u8 fdc_get(void)
{
    u32 i;
    for (i = 0; i < 100000 && (inb(0x3F4) & 0xC0) != 0xC0; i++)
        ;
    return inb(0x3F5);
}
static void fdc_put(u8 v)
{
    u32 i;
    for (i = 0; i < 100000 && (inb(0x3F4) & 0xC0) != 0x80; i++)
        ;
    outb(v, 0x3F5);
}
static void fdc_resets_and_tells_its_version(void)
{
    u32 i;
    outb(0x00, 0x3F2);
    wait_ms(1, 0);
    outb(0x0C, 0x3F2);
    wait_ms(5, 0);
    for (i = 0; i < 4; i++) {
        fdc_put(0x08);
        IS(fdc_get(), 0xC0 + i);
        fdc_get();
    }
    fdc_put(0x10);
    IS(fdc_get(), 0x90);
    fdc_put(0x07); /* recalibrate drive A */
    fdc_put(0x00);
    wait_ms(20, 0);
    fdc_put(0x08);
    IS(fdc_get(), 0x20);
    IS(fdc_get(), 0x00);
}
static void dma_registers(void)
{
    outb(0, 0x0C);
    outb(0x34, 0x02); outb(0x12, 0x02);
    IS(inb(0x02), 0x34);
    IS(inb(0x02), 0x12);
    inb(0x02);
    outb(0, 0x0C);
    IS(inb(0x02), 0x34);
    outb(0, 0x0C);
    outb(0x5A, 0x83);
    IS(inb(0x83), 0x5A);
}

static void run(const char *name, void (*fn)(void))
{
    test_name = name;
    bad = 0;
    fn();
    cli();
    if (bad) {
        failed++;
    } else {
        passed++;
        print("ok   ");
        print(name);
        print("\n");
    }
}
#define RUN(fn) run(#fn, fn)

void guest_main(void);
void guest_main(void)
{
    interrupts_setup();
    pic_setup(0xFF, 0xFF);
    pm = (u16)(config(0x0B, 0x40) & 0xFFC0);
    RUN(pci_ids);
    RUN(pci_vga_bar_sizes);
    RUN(pit_channel_2_against_pm_timer);
    RUN(pit_read_back);
    RUN(pic_registers);
    RUN(pit_irq_0_rate);
    RUN(pic_request_service_and_poll);
    RUN(hpet_against_pm_timer);
    RUN(hpet_periodic_replaces_the_pit);
    RUN(rtc_second_against_pm_timer);
    RUN(rtc_update_in_progress_shows);
    RUN(rtc_is_set_and_starts_after_half_a_second);
    RUN(rtc_periodic_irq_8);
    RUN(lapic_registers);
    RUN(lapic_timer_against_pm_timer);
    RUN(lapic_timer_interrupts);
    RUN(lapic_priorities);
    RUN(ioapic_pin_2_is_the_timer);
    RUN(acpi_sci_is_level_and_routed);
    RUN(pam_shadows);
    RUN(a20_line_closes);
    RUN(fw_cfg_answers);
    RUN(fdc_resets_and_tells_its_version);
    RUN(dma_registers);
    print_dec((u32)passed);
    print(" passed, ");
    print_dec((u32)failed);
    print(" failed\n");
    outb(failed ? 1 : 0, 0x501);
    for (;;)
        __asm__ volatile("cli\n hlt");
}
