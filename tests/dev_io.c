/* tests/dev_io.c - register-level tests of serial and parallel ports, keyboard controller, IDE disks and CD-ROM, and VGA.
 *
 * Expected values are the data sheets' (PC16550D, PS/2 Technical Reference, ATA/ATAPI-6, MMC-3, IBM VGA), cited at each test. The machine
 * has no CPU: the test is the guest. Time is -icount time, moved by hand. Disks are images in memory that can fail on demand.
 */
#include "machine.h"
#include "dev/dev.h"
#include "disk/image.h"
#include "test.h"

#define US NS_PER_US
#define MS NS_PER_MS

/* ---- fixture ---- */

struct fake_disk {
    struct image image;
    uint64_t bad_read, bad_write; /* byte offset of a sector that fails, or UINT64_MAX */
    unsigned reads, writes, flushes, discards;
    uint64_t discard_offset, discard_size;
    uint8_t *bytes; /* NULL: each sector begins with its own number, writes are dropped */
};
struct machine {
    struct emu emu;
    struct fake_disk hd, cd;
    struct blk *hd_blk, *cd_blk;
    struct chr chr;
    uint8_t sent[256];
    size_t sent_count, room; /* what the fake character device took, and may yet take */
};

static void *fake_alloc(void *opaque, void *p, size_t size)
{
    (void)opaque;
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

static int fake_read(struct image *img, uint64_t offset, void *buf, size_t size)
{
    struct fake_disk *f = img->state;
    size_t i;
    f->reads++;
    if (f->bad_read >= offset && f->bad_read < offset + size)
        return EMU_EIO;
    if (f->bytes) {
        memcpy(buf, f->bytes + offset, size);
    } else {
        memset(buf, 0, size);
        for (i = 0; i < size; i += 512)
            st64le((uint8_t *)buf + i, (offset + i) / 512);
    }
    return 0;
}
static int fake_write(struct image *img, uint64_t offset, const void *buf, size_t size)
{
    struct fake_disk *f = img->state;
    f->writes++;
    if (f->bad_write >= offset && f->bad_write < offset + size)
        return EMU_EIO;
    if (f->bytes)
        memcpy(f->bytes + offset, buf, size);
    return 0;
}
static int fake_flush(struct image *img)
{
    ((struct fake_disk *)img->state)->flushes++;
    return 0;
}
static int fake_discard(struct image *img, uint64_t offset, uint64_t size)
{
    struct fake_disk *f = img->state;
    f->discards++;
    f->discard_offset = offset;
    f->discard_size = size;
    return 0;
}
static int fake_close(struct image *img)
{
    (void)img;
    return 0;
}
static const struct image_ops fake_ops = {
    .name = "fake", .read = fake_read, .write = fake_write, .flush = fake_flush, .discard = fake_discard, .close = fake_close,
};

static struct blk *fake_insert(struct machine *m, struct fake_disk *f, const char *id, uint64_t size, bool bytes)
{
    struct blk *b = blk_create(&m->emu, id, NULL);
    memset(f, 0, sizeof *f);
    f->bad_read = f->bad_write = UINT64_MAX;
    f->bytes = bytes ? calloc(1, (size_t)size) : NULL;
    f->image.emu = &m->emu;
    f->image.ops = &fake_ops;
    f->image.state = f;
    f->image.size_bytes = size;
    f->image.flags = IMAGE_WRITE | IMAGE_UNMAP;
    b->image = &f->image;
    b->image_flags = f->image.flags;
    b->size_bytes = size;
    return b;
}

static int fake_chr_write(struct chr *c, const void *buf, size_t size)
{
    struct machine *m = c->backend;
    size_t n = size < m->room ? size : m->room;
    if (n > sizeof m->sent - m->sent_count)
        n = sizeof m->sent - m->sent_count;
    memcpy(m->sent + m->sent_count, buf, n);
    m->sent_count += n;
    m->room -= n;
    return (int)n;
}
static void fake_accept_input(struct chr *c) { (void)c; }
static const struct chr_ops fake_chr_ops = { .write = fake_chr_write, .accept_input = fake_accept_input };

static struct device *add(struct machine *m, const char *name, const char *text)
{
    struct options o;
    struct err err;
    struct device *d;
    if (options_parse(&o, &m->emu, name, text, NULL, &err))
        return NULL;
    d = device_create(&m->emu, name, NULL, &o, &err);
    if (!d)
        printf("%s: %s\n", name, err.text);
    options_free(&o);
    return d;
}

static void io_out(struct machine *m, unsigned port, unsigned v) { port_write(&m->emu, (uint16_t)port, v, 1); }
static unsigned io_in(struct machine *m, unsigned port) { return (unsigned)port_read(&m->emu, (uint16_t)port, 1); }
static void io_out16(struct machine *m, unsigned port, unsigned v) { port_write(&m->emu, (uint16_t)port, v, 2); }
static unsigned io_in16(struct machine *m, unsigned port) { return (unsigned)port_read(&m->emu, (uint16_t)port, 2); }

static void wait_ns(struct machine *m, int64_t ns)
{
    int64_t end = emu_now_ns(&m->emu) + ns;
    while (clock_next_deadline(&m->emu) <= end) {
        clock_warp_to(&m->emu, clock_next_deadline(&m->emu));
        clock_run_timers(&m->emu);
    }
    clock_warp_to(&m->emu, end);
    clock_run_timers(&m->emu);
}

/* A machine with RAM, PIC, PCI and nothing else. */
static struct machine *machine_new(void)
{
    struct machine *m = calloc(1, sizeof *m);
    struct emu *e = &m->emu;
    e->alloc_fn = fake_alloc;
    e->config.icount = true;
    e->wake_read = e->wake_write = HOST_FD_NONE;
    clock_create(e);
    memory_create(e, NULL);
    e->ram = ram_block_create(e, "ram", 1 * MIB, false, NULL);
    region_init_ram(&e->ram_low, "ram", e->ram, 0, 1 * MIB);
    region_add(e, &e->memory, &e->ram_low, 0, MAP_PRIO_RAM);
    chipset_get(e);
    pci_bus_create(e, NULL);
    add(m, "i8259", "");
    io_out(m, 0x20, 0x11), io_out(m, 0x21, 0x08), io_out(m, 0x21, 0x04), io_out(m, 0x21, 0x01), io_out(m, 0x21, 0x00);
    io_out(m, 0xA0, 0x11), io_out(m, 0xA1, 0x70), io_out(m, 0xA1, 0x02), io_out(m, 0xA1, 0x01), io_out(m, 0xA1, 0x00);
    m->chr.emu = e;
    m->chr.id = emu_strdup(e, "t0");
    m->chr.ops = &fake_chr_ops;
    m->chr.backend = m;
    m->chr.open = true;
    m->chr.log_fd = HOST_FD_NONE;
    m->room = SIZE_MAX;
    e->chars = &m->chr;
    return m;
}

static void machine_free(struct machine *m)
{
    struct emu *e = &m->emu;
    while (e->devices)
        device_destroy(e->devices);
    pci_bus_destroy(e);
    chipset_free(e);
    while (e->drives) {
        struct blk *b = e->drives;
        b->image = NULL;
        blk_destroy(b);
        if (e->drives == b)
            break;
    }
    free(m->hd.bytes);
    free(m->cd.bytes);
    emu_free(e, m->chr.id);
    memory_destroy(e);
    clock_destroy(e);
    free(m);
}

/* Takes the pending interrupt by the 8259's poll command and ends it: its line, or -1. */
static int take_irq(struct machine *m)
{
    unsigned v;
    io_out(m, 0x20, 0x0C);
    v = io_in(m, 0x20);
    if (!(v & 0x80))
        return -1;
    v &= 7;
    if (v == 2) {
        io_out(m, 0xA0, 0x0C);
        v = 8 + (io_in(m, 0xA0) & 7);
        io_out(m, 0xA0, 0x20);
    }
    io_out(m, 0x20, 0x20);
    return (int)v;
}

/* ==== UART ==== */

static struct machine *uart_machine(void)
{
    struct machine *m = machine_new();
    add(m, "isa-serial", "chardev=t0");
    return m;
}
static void uart_type(struct machine *m, const char *text) { m->chr.receive(m->chr.opaque, (const uint8_t *)text, strlen(text)); }

/* PC16550D §8.6: IIR bits 7-6 are set when FIFOs are on; §8: scratch register; reset values table 2. */
TEST(uart_is_a_16550a)
{
    struct machine *m = uart_machine();
    CHECK_EQ(io_in(m, 0x3FD), 0x60);
    CHECK_EQ(io_in(m, 0x3FA), 0x01);
    io_out(m, 0x3FA, 0x01);
    CHECK_EQ(io_in(m, 0x3FA), 0xC1);
    io_out(m, 0x3FF, 0x5A);
    CHECK_EQ(io_in(m, 0x3FF), 0x5A);
    io_out(m, 0x3FB, 0x83);
    io_out16(m, 0x3F8, 0x0001);
    CHECK_EQ(io_in(m, 0x3F8), 1);
    CHECK_EQ(io_in(m, 0x3F9), 0);
    io_out(m, 0x3FB, 0x03);
    CHECK_EQ(io_in(m, 0x3F9), 0); /* IER again */
    machine_free(m);
}

/* §8.7 table 5: THRE is cleared by reading IIR (if it is the source) or writing THR, set again when THR empties. */
TEST(uart_transmitter_interrupt)
{
    struct machine *m = uart_machine();
    io_out(m, 0x3F9, 0x02);
    CHECK_EQ(take_irq(m), 4);
    CHECK_EQ(io_in(m, 0x3FA), 0x02);
    CHECK_EQ(io_in(m, 0x3FA), 0x01);
    CHECK_EQ(take_irq(m), -1);
    io_out(m, 0x3F8, 'x');
    CHECK_EQ(m->sent_count, 1);
    CHECK_EQ(m->sent[0], 'x');
    CHECK_EQ(take_irq(m), 4);
    CHECK_EQ(io_in(m, 0x3FA), 0x02);
    machine_free(m);
}

/* A handler that looks at LSR only and writes THR has acknowledged, too: the next empty THR is an edge again. */
TEST(uart_thr_written_without_reading_iir_interrupts_again)
{
    struct machine *m = uart_machine();
    io_out(m, 0x3F9, 0x02);
    CHECK_EQ(take_irq(m), 4);
    io_out(m, 0x3F8, 'x');
    CHECK_EQ(take_irq(m), 4);
    io_out(m, 0x3F8, 'y');
    CHECK_EQ(take_irq(m), 4);
    machine_free(m);
}

TEST(uart_waits_for_a_full_backend)
{
    struct machine *m = uart_machine();
    unsigned i;
    io_out(m, 0x3FA, 0x01);
    m->room = 0;
    for (i = 0; i < 16; i++)
        io_out(m, 0x3F8, 'a' + i);
    CHECK_EQ(io_in(m, 0x3FD) & 0x60, 0);
    CHECK_EQ(m->sent_count, 0);
    m->room = 5;
    m->chr.writable(m->chr.opaque);
    CHECK_EQ(m->sent_count, 5);
    CHECK_EQ(io_in(m, 0x3FD) & 0x20, 0);
    m->room = SIZE_MAX;
    m->chr.writable(m->chr.opaque);
    CHECK_EQ(m->sent_count, 16);
    CHECK(!memcmp(m->sent, "abcdefghijklmnop", 16));
    CHECK_EQ(io_in(m, 0x3FD) & 0x60, 0x60);
    machine_free(m);
}

/* §8.11: trigger level interrupt, drops below the level; time-out after four characters without movement. */
TEST(uart_receiver_levels_and_timeout)
{
    struct machine *m = uart_machine();
    int i;
    io_out(m, 0x3FB, 0x83), io_out(m, 0x3F8, 12), io_out(m, 0x3F9, 0), io_out(m, 0x3FB, 0x03); /* 9600 8n1 */
    io_out(m, 0x3FA, 0x81); /* level 8 */
    io_out(m, 0x3F9, 0x01);
    CHECK_EQ(m->chr.can_receive(m->chr.opaque), 16);
    uart_type(m, "1234567");
    CHECK_EQ(io_in(m, 0x3FD), 0x61);
    CHECK_EQ(io_in(m, 0x3FA), 0xC1);
    wait_ns(m, 4 * MS); /* four characters of ten bits take 4.17 ms */
    CHECK_EQ(io_in(m, 0x3FA), 0xC1);
    wait_ns(m, 200 * US);
    CHECK_EQ(io_in(m, 0x3FA), 0xCC);
    CHECK_EQ(take_irq(m), 4);
    CHECK_EQ(io_in(m, 0x3F8), '1'); /* reading one ends the time-out */
    CHECK_EQ(io_in(m, 0x3FA), 0xC1);
    uart_type(m, "89");
    CHECK_EQ(io_in(m, 0x3FA), 0xC4);
    CHECK_EQ(m->chr.can_receive(m->chr.opaque), 8);
    for (i = '2'; i <= '9'; i++)
        CHECK_EQ(io_in(m, 0x3F8), i);
    CHECK_EQ(io_in(m, 0x3FD), 0x60);
    machine_free(m);
}

/* §8.8: loopback wires RTS-CTS, DTR-DSR, OUT1-RI, OUT2-DCD and THR-RBR; Linux probes with MCR = 1Ah and wants 90h. */
TEST(uart_loopback)
{
    struct machine *m = uart_machine();
    unsigned i;
    io_out(m, 0x3FC, 0x1A);
    CHECK_EQ(io_in(m, 0x3FE) & 0xF0, 0x90);
    io_out(m, 0x3FC, 0x14); /* OUT1: RI */
    io_in(m, 0x3FE);
    io_out(m, 0x3FC, 0x10);
    CHECK_EQ(io_in(m, 0x3FE), 0x04); /* TERI: trailing edge of RI */
    io_out(m, 0x3FA, 0x07);
    for (i = 0; i < 17; i++)
        io_out(m, 0x3F8, i);
    CHECK_EQ(m->sent_count, 0);
    CHECK_EQ(io_in(m, 0x3FD), 0x63); /* overrun; the FIFO keeps the first 16 (§8.4) */
    CHECK_EQ(io_in(m, 0x3FD), 0x61);
    for (i = 0; i < 16; i++)
        CHECK_EQ(io_in(m, 0x3F8), i);
    machine_free(m);
}

/* Table 5: line status has the highest priority, modem status the lowest. */
TEST(uart_interrupt_priorities)
{
    struct machine *m = uart_machine();
    io_out(m, 0x3FC, 0x10); /* loop: modem lines drop */
    io_out(m, 0x3FC, 0x00);
    io_out(m, 0x3F9, 0x0F);
    uart_type(m, "k");
    m->chr.event(m->chr.opaque, CHR_BREAK); /* overruns the one-byte receiver: OE */
    CHECK_EQ(io_in(m, 0x3FA), 0x06);
    CHECK_EQ(io_in(m, 0x3FD) & 0x1F, 0x03);
    CHECK_EQ(io_in(m, 0x3FA), 0x04);
    io_in(m, 0x3F8);
    CHECK_EQ(io_in(m, 0x3FA), 0x02);
    CHECK_EQ(io_in(m, 0x3FA), 0x00);
    io_in(m, 0x3FE);
    CHECK_EQ(io_in(m, 0x3FA), 0x01);
    m->chr.event(m->chr.opaque, CHR_BREAK);
    CHECK_EQ(io_in(m, 0x3FD) & 0x1F, 0x11); /* BI with a zero byte */
    CHECK_EQ(io_in(m, 0x3F8), 0);
    machine_free(m);
}

/* ==== parallel ==== */

TEST(parallel_sends_on_strobe)
{
    struct machine *m = machine_new();
    add(m, "isa-parallel", "chardev=t0");
    CHECK_EQ(io_in(m, 0x379), 0xD8); /* not busy, ACK high, selected, no error */
    io_out(m, 0x378, 'P');
    CHECK_EQ(io_in(m, 0x378), 'P');
    io_out(m, 0x37A, 0x1D);
    CHECK_EQ(m->sent_count, 0);
    io_out(m, 0x37A, 0x1C);
    CHECK_EQ(m->sent_count, 1);
    CHECK_EQ(m->sent[0], 'P');
    CHECK_EQ(take_irq(m), 7);
    m->room = 0;
    io_out(m, 0x37A, 0x0D), io_out(m, 0x37A, 0x0C);
    CHECK_EQ(io_in(m, 0x379) & 0x80, 0);
    m->room = 9;
    m->chr.writable(m->chr.opaque);
    CHECK_EQ(io_in(m, 0x379) & 0x80, 0x80);
    machine_free(m);
}

/* ==== 8042 ==== */

static struct machine *ps2_machine(void)
{
    struct machine *m = machine_new();
    add(m, "i8042", "");
    return m;
}
/* The next byte, waiting for it as a driver does; -1: none within 2 ms. Bit 8 is set for the mouse's. */
static int ps2_get(struct machine *m)
{
    int tries;
    for (tries = 0; tries < 200; tries++) {
        unsigned status = io_in(m, 0x64);
        if (status & 1)
            return (int)(io_in(m, 0x60) | ((status & 0x20) << 3));
        wait_ns(m, 10 * US);
    }
    return -1;
}
static void ps2_aux(struct machine *m, unsigned v)
{
    io_out(m, 0x64, 0xD4);
    io_out(m, 0x60, v);
}

TEST(ps2_controller_self_tests_and_mode)
{
    struct machine *m = ps2_machine();
    io_out(m, 0x64, 0xAA);
    CHECK_EQ(ps2_get(m), 0x55);
    CHECK_EQ(io_in(m, 0x64) & 0x04, 0x04);
    io_out(m, 0x64, 0xAB);
    CHECK_EQ(ps2_get(m), 0x00);
    io_out(m, 0x64, 0xA9);
    CHECK_EQ(ps2_get(m), 0x00);
    io_out(m, 0x64, 0x60), io_out(m, 0x60, 0x65);
    io_out(m, 0x64, 0x20);
    CHECK_EQ(ps2_get(m), 0x65);
    io_out(m, 0x64, 0xA7), io_out(m, 0x64, 0xAD), io_out(m, 0x64, 0x20);
    CHECK_EQ(ps2_get(m), 0x75);
    io_out(m, 0x64, 0xA8), io_out(m, 0x64, 0xAE), io_out(m, 0x64, 0x20);
    CHECK_EQ(ps2_get(m), 0x45);
    CHECK_EQ(ps2_get(m), -1);
    io_out(m, 0x64, 0xA7), io_out(m, 0x64, 0xD3), io_out(m, 0x60, 0x5A); /* auxiliary loop, Linux's probe */
    CHECK_EQ(ps2_get(m), 0x15A);
    machine_free(m);
}

TEST(ps2_keyboard_reset_and_identify)
{
    struct machine *m = ps2_machine();
    io_out(m, 0x64, 0x60), io_out(m, 0x60, 0x01);
    io_out(m, 0x60, 0xFF);
    CHECK_EQ(ps2_get(m), 0xFA);
    CHECK_EQ(ps2_get(m), 0xAA);
    io_out(m, 0x60, 0xF2);
    CHECK_EQ(ps2_get(m), 0xFA);
    CHECK_EQ(ps2_get(m), 0xAB);
    CHECK_EQ(ps2_get(m), 0x83);
    io_out(m, 0x64, 0x60), io_out(m, 0x60, 0x41); /* translation: 83h reads as 41h */
    io_out(m, 0x60, 0xF2);
    CHECK_EQ(ps2_get(m), 0xFA);
    CHECK_EQ(ps2_get(m), 0xAB);
    CHECK_EQ(ps2_get(m), 0x41);
    io_out(m, 0x60, 0xEE);
    CHECK_EQ(ps2_get(m), 0xEE);
    io_out(m, 0x60, 0xED);
    CHECK_EQ(ps2_get(m), 0xFA);
    io_out(m, 0x60, 0x07);
    CHECK_EQ(ps2_get(m), 0xFA);
    io_out(m, 0x60, 0xE0); /* no such command */
    CHECK_EQ(ps2_get(m), 0xFE);
    machine_free(m);
}

/* PS/2 Technical Reference, Keyboard: scan code sets 1, 2 and 3. */
TEST(ps2_scan_codes)
{
    struct machine *m = ps2_machine();
    static const int pause1[] = { 0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5, -1 };
    static const int print1[] = { 0xE0, 0x2A, 0xE0, 0x37, 0xE0, 0xB7, 0xE0, 0xAA, -1 };
    size_t i;
    input_key(&m->emu, 0x1E, true);
    CHECK_EQ(io_in(m, 0x64) & 0x21, 0x01);
    CHECK_EQ(take_irq(m), 1);
    CHECK_EQ(ps2_get(m), 0x1E);
    input_key(&m->emu, 0x1E, false);
    CHECK_EQ(ps2_get(m), 0x9E);
    input_key(&m->emu, 0x80 | 0x48, true);
    CHECK_EQ(ps2_get(m), 0xE0);
    CHECK_EQ(ps2_get(m), 0x48);
    input_key(&m->emu, 0xC6, true), input_key(&m->emu, 0xC6, false);
    for (i = 0; i < EMU_ARRAY_LEN(pause1); i++)
        CHECK_EQ(ps2_get(m), pause1[i]);
    input_key(&m->emu, 0xB7, true), input_key(&m->emu, 0xB7, false);
    for (i = 0; i < EMU_ARRAY_LEN(print1); i++)
        CHECK_EQ(ps2_get(m), print1[i]);
    io_out(m, 0x64, 0x60), io_out(m, 0x60, 0x00); /* set 2 as it is */
    input_key(&m->emu, 0x1E, true), input_key(&m->emu, 0x1E, false);
    CHECK_EQ(ps2_get(m), 0x1C);
    CHECK_EQ(ps2_get(m), 0xF0);
    CHECK_EQ(ps2_get(m), 0x1C);
    input_key(&m->emu, 0x41, true); /* F7 */
    CHECK_EQ(ps2_get(m), 0x83);
    io_out(m, 0x60, 0xF0);
    CHECK_EQ(ps2_get(m), 0xFA);
    io_out(m, 0x60, 0x03);
    CHECK_EQ(ps2_get(m), 0xFA);
    input_key(&m->emu, 0x39, true), input_key(&m->emu, 0x1D, true), input_key(&m->emu, 0x1D, false);
    CHECK_EQ(ps2_get(m), 0x29);
    CHECK_EQ(ps2_get(m), 0x11);
    CHECK_EQ(ps2_get(m), 0xF0);
    CHECK_EQ(ps2_get(m), 0x11);
    machine_free(m);
}

/* A handler that chains to another one reads port 60h twice and must get the same byte. */
TEST(ps2_byte_can_be_read_twice)
{
    struct machine *m = ps2_machine();
    input_key(&m->emu, 0x1E, true), input_key(&m->emu, 0x1E, false);
    CHECK_EQ(io_in(m, 0x60), 0x1E);
    CHECK_EQ(io_in(m, 0x60), 0x1E);
    CHECK_EQ(io_in(m, 0x64) & 1, 0);
    CHECK_EQ(ps2_get(m), 0x9E);
    machine_free(m);
}

TEST(ps2_mouse_packets)
{
    struct machine *m = ps2_machine();
    static const unsigned knock[] = { 200, 100, 80 };
    size_t i;
    ps2_aux(m, 0xFF);
    CHECK_EQ(ps2_get(m), 0x1FA);
    CHECK_EQ(ps2_get(m), 0x1AA);
    CHECK_EQ(ps2_get(m), 0x100);
    ps2_aux(m, 0xF4);
    CHECK_EQ(ps2_get(m), 0x1FA);
    while (take_irq(m) >= 0)
        ;
    wait_ns(m, 1 * MS);
    input_mouse(&m->emu, 5, 3, 0, 1); /* right, down, left button */
    CHECK_EQ(take_irq(m), 12);
    CHECK_EQ(ps2_get(m), 0x129); /* y negative, always-one bit, left */
    CHECK_EQ(ps2_get(m), 0x105);
    CHECK_EQ(ps2_get(m), 0x1FD);
    CHECK_EQ(ps2_get(m), -1);
    for (i = 0; i < 3; i++) {
        ps2_aux(m, 0xF3);
        CHECK_EQ(ps2_get(m), 0x1FA);
        ps2_aux(m, knock[i]);
        CHECK_EQ(ps2_get(m), 0x1FA);
    }
    ps2_aux(m, 0xF2);
    CHECK_EQ(ps2_get(m), 0x1FA);
    CHECK_EQ(ps2_get(m), 0x103);
    input_mouse(&m->emu, 0, 0, 1, 0); /* wheel away from the user */
    CHECK_EQ(ps2_get(m), 0x108);
    CHECK_EQ(ps2_get(m), 0x100);
    CHECK_EQ(ps2_get(m), 0x100);
    CHECK_EQ(ps2_get(m), 0x1FF);
    ps2_aux(m, 0xF0); /* remote: nothing until asked */
    CHECK_EQ(ps2_get(m), 0x1FA);
    input_mouse(&m->emu, -2, 0, 0, 0);
    CHECK_EQ(ps2_get(m), -1);
    ps2_aux(m, 0xEB);
    CHECK_EQ(ps2_get(m), 0x1FA);
    CHECK_EQ(ps2_get(m), 0x118);
    CHECK_EQ(ps2_get(m), 0x1FE);
    machine_free(m);
}

TEST(ps2_a20_and_reset)
{
    struct machine *m = ps2_machine();
    io_out(m, 0x64, 0xD1), io_out(m, 0x60, 0xDD);
    CHECK_EQ(m->emu.a20_mask & (1 << 20), 0);
    io_out(m, 0x64, 0xD1), io_out(m, 0x60, 0xDF);
    CHECK(m->emu.a20_mask & (1 << 20));
    io_out(m, 0x64, 0xD0);
    CHECK_EQ(ps2_get(m) & 3, 3);
    CHECK_EQ(m->emu.requests & REQ_RESET, 0);
    io_out(m, 0x64, 0xFE);
    CHECK_EQ(m->emu.requests & REQ_RESET, REQ_RESET);
    machine_free(m);
}

/* ==== IDE disk ==== */

enum { HD_SECTORS = 4096 };

static struct machine *ata_machine(uint64_t size, bool bytes)
{
    struct machine *m = machine_new();
    size_t i;
    add(m, "piix3-ide", "");
    m->hd_blk = fake_insert(m, &m->hd, "hd", size, bytes);
    add(m, "ide-hd", "drive=hd");
    if (bytes)
        for (i = 0; i < size; i++)
            m->hd.bytes[i] = (uint8_t)(i / 512 * 7 + i);
    /* bus master registers at C000h */
    pci_config_write(m->emu.pci->devices[9], 0x20, 0xC001, 4);
    pci_config_write(m->emu.pci->devices[9], 0x04, 0x0005, 2);
    return m;
}
static void ata_setup(struct machine *m, unsigned count, uint32_t lba)
{
    io_out(m, 0x1F6, 0xE0 | (lba >> 24 & 15));
    io_out(m, 0x1F2, count);
    io_out(m, 0x1F3, lba & 0xFF), io_out(m, 0x1F4, lba >> 8 & 0xFF), io_out(m, 0x1F5, lba >> 16 & 0xFF);
}
/* Waits for BSY to go; the status through the alternate register, INTRQ left alone. */
static unsigned ata_wait(struct machine *m)
{
    int tries;
    for (tries = 0; tries < 1000 && (io_in(m, 0x3F6) & 0x80); tries++)
        wait_ns(m, 10 * US);
    return io_in(m, 0x3F6);
}
static void ata_get_data(struct machine *m, uint8_t *to, unsigned bytes)
{
    unsigned i;
    for (i = 0; i < bytes; i += 2)
        st16le(to + i, (uint16_t)io_in16(m, 0x1F0));
}
static void ata_put_data(struct machine *m, const uint8_t *from, unsigned bytes)
{
    unsigned i;
    for (i = 0; i < bytes; i += 2)
        io_out16(m, 0x1F0, ld16le(from + i));
}
static uint8_t *ram_at(struct machine *m, uint32_t gpa) { return m->emu.ram->bytes + gpa; }
/* PRD list at 1000h. */
static void prd(struct machine *m, unsigned n, uint32_t address, unsigned bytes, bool last)
{
    st32le(ram_at(m, 0x1000 + 8 * n), address);
    st32le(ram_at(m, 0x1000 + 8 * n + 4), (bytes & 0xFFFF) | (last ? 0x80000000u : 0));
}
static void bm_start(struct machine *m, bool to_memory)
{
    port_write(&m->emu, 0xC004, 0x1000, 4);
    io_out(m, 0xC002, 0x06);
    io_out(m, 0xC000, to_memory ? 0x08 : 0x00);
    io_out(m, 0xC000, to_memory ? 0x09 : 0x01);
}

/* ATA/ATAPI-6 §8.15 (IDENTIFY DEVICE), §9.12 (signature). */
TEST(ata_signature_and_identify)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    uint8_t id[512], sum = 0;
    unsigned i;
    io_out(m, 0x3F6, 0x04), io_out(m, 0x3F6, 0x00);
    CHECK_EQ(ata_wait(m), 0x50);
    CHECK_EQ(io_in(m, 0x1F1), 0x01);
    CHECK_EQ(io_in(m, 0x1F2), 0x01);
    CHECK_EQ(io_in(m, 0x1F3), 0x01);
    CHECK_EQ(io_in(m, 0x1F4), 0x00);
    CHECK_EQ(io_in(m, 0x1F5), 0x00);
    io_out(m, 0x1F6, 0xA0);
    io_out(m, 0x1F7, 0xEC);
    CHECK_EQ(ata_wait(m), 0x58);
    CHECK_EQ(take_irq(m), 14);
    CHECK_EQ(io_in(m, 0x1F7), 0x58);
    ata_get_data(m, id, 512);
    CHECK_EQ(io_in(m, 0x1F7), 0x50);
    CHECK_EQ(take_irq(m), -1); /* PIO data-in has no interrupt after the last block */
    CHECK_EQ(ld16le(id) & 0x8000, 0);
    CHECK(!memcmp(id + 54, "ME UAHDRIDKS", 12)); /* "EMU HARDDISK" in swapped pairs */
    CHECK(!memcmp(id + 20, "ME0000 1", 8) || !memcmp(id + 20, "ME00001", 6));
    CHECK_EQ(ld16le(id + 2 * 49) & 0x300, 0x300);
    CHECK_EQ(ld32le(id + 2 * 60), HD_SECTORS);
    CHECK_EQ(ld64le(id + 2 * 100), HD_SECTORS);
    CHECK_EQ(ld16le(id + 2 * 83) & 0xC000, 0x4000);
    CHECK_EQ(ld16le(id + 2 * 83) & 0x3400, 0x3400);
    for (i = 0; i < 512; i++)
        sum = (uint8_t)(sum + id[i]);
    CHECK_EQ(id[510], 0xA5);
    CHECK_EQ(sum, 0);
    machine_free(m);
}

TEST(ata_reads_by_pio)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    uint8_t data[1024];
    ata_setup(m, 2, 100);
    io_out(m, 0x1F7, 0x20);
    CHECK_EQ(io_in(m, 0x3F6), 0x80); /* busy until the event queue has the data */
    CHECK_EQ(take_irq(m), -1);
    CHECK_EQ(ata_wait(m), 0x58);
    CHECK_EQ(take_irq(m), 14);
    io_in(m, 0x1F7);
    ata_get_data(m, data, 512);
    CHECK_EQ(take_irq(m), -1);
    CHECK_EQ(ata_wait(m), 0x58);
    CHECK_EQ(take_irq(m), 14);
    io_in(m, 0x1F7);
    ata_get_data(m, data + 512, 512);
    CHECK_EQ(io_in(m, 0x1F7), 0x50);
    CHECK(!memcmp(data, m->hd.bytes + 100 * 512, 1024));
    /* READ MULTIPLE: aborted before SET MULTIPLE MODE, then one interrupt for the block */
    ata_setup(m, 2, 7);
    io_out(m, 0x1F7, 0xC4);
    CHECK_EQ(io_in(m, 0x1F7) & 0x89, 0x01);
    CHECK_EQ(io_in(m, 0x1F1), 0x04);
    take_irq(m);
    ata_setup(m, 4, 0);
    io_out(m, 0x1F7, 0xC6);
    take_irq(m);
    ata_setup(m, 2, 7);
    io_out(m, 0x1F7, 0xC4);
    CHECK_EQ(ata_wait(m), 0x58);
    ata_get_data(m, data, 1024);
    CHECK_EQ(io_in(m, 0x1F7), 0x50);
    CHECK(!memcmp(data, m->hd.bytes + 7 * 512, 1024));
    machine_free(m);
}

TEST(ata_writes_by_pio_and_flushes)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    uint8_t data[1024];
    unsigned i;
    for (i = 0; i < 1024; i++)
        data[i] = (uint8_t)(i * 3 + 1);
    ata_setup(m, 2, 5);
    io_out(m, 0x1F7, 0x30);
    CHECK_EQ(io_in(m, 0x3F6), 0x58);
    CHECK_EQ(take_irq(m), -1); /* the first block is asked for without an interrupt */
    ata_put_data(m, data, 512);
    CHECK_EQ(io_in(m, 0x3F6), 0x80);
    CHECK_EQ(ata_wait(m), 0x58);
    CHECK_EQ(take_irq(m), 14);
    io_in(m, 0x1F7);
    ata_put_data(m, data + 512, 512);
    CHECK_EQ(ata_wait(m), 0x50);
    CHECK_EQ(take_irq(m), 14);
    CHECK(!memcmp(data, m->hd.bytes + 5 * 512, 1024));
    CHECK_EQ(m->hd.flushes, 0);
    io_out(m, 0x1F7, 0xE7);
    CHECK_EQ(io_in(m, 0x3F6), 0x80);
    CHECK_EQ(ata_wait(m), 0x50);
    CHECK_EQ(m->hd.flushes, 1);
    /* with the write cache off each write is flushed before it is done */
    io_out(m, 0x1F1, 0x82), io_out(m, 0x1F7, 0xEF);
    ata_wait(m);
    CHECK_EQ(m->hd.flushes, 2);
    ata_setup(m, 1, 5);
    io_out(m, 0x1F7, 0x30);
    ata_put_data(m, data, 512);
    CHECK_EQ(ata_wait(m), 0x50);
    CHECK_EQ(m->hd.flushes, 3);
    machine_free(m);
}

/* Programming Interface for Bus Master IDE Controller 1.0 §2-3. */
TEST(ata_reads_by_dma)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    prd(m, 0, 0x2000, 512, false);
    prd(m, 1, 0x8002, 1024, false);
    prd(m, 2, 0x3000, 512, true);
    ata_setup(m, 4, 33);
    io_out(m, 0x1F7, 0xC8);
    bm_start(m, true);
    CHECK_EQ(io_in(m, 0xC002) & 7, 1);
    CHECK_EQ(take_irq(m), -1);
    CHECK_EQ(ata_wait(m), 0x50);
    CHECK_EQ(io_in(m, 0xC002) & 7, 4); /* list used up: not active, interrupt */
    CHECK_EQ(take_irq(m), 14);
    io_in(m, 0x1F7);
    io_out(m, 0xC000, 0x08);
    io_out(m, 0xC002, 0x04);
    CHECK_EQ(io_in(m, 0xC002) & 7, 0);
    CHECK(!memcmp(ram_at(m, 0x2000), m->hd.bytes + 33 * 512, 512));
    CHECK(!memcmp(ram_at(m, 0x8002), m->hd.bytes + 34 * 512, 1024));
    CHECK(!memcmp(ram_at(m, 0x3000), m->hd.bytes + 36 * 512, 512));
    CHECK_EQ(ram_at(m, 0x8001)[0], 0);
    /* a longer list stays active and interrupts all the same (§3.1, table) */
    prd(m, 0, 0x2000, 0, true); /* 0 = 64 KiB */
    ata_setup(m, 1, 1);
    io_out(m, 0x1F7, 0xC8);
    bm_start(m, true);
    ata_wait(m);
    CHECK_EQ(io_in(m, 0xC002) & 7, 5);
    io_in(m, 0x1F7);
    io_out(m, 0xC000, 0);
    CHECK_EQ(io_in(m, 0xC002) & 7, 4);
    take_irq(m);
    /* a shorter one: neither active nor interrupt, the drive waits */
    prd(m, 0, 0x2000, 256, true);
    ata_setup(m, 1, 1);
    io_out(m, 0x1F7, 0xC8);
    bm_start(m, true);
    ata_wait(m);
    CHECK_EQ(io_in(m, 0xC002) & 7, 0);
    CHECK_EQ(take_irq(m), -1);
    CHECK_EQ(io_in(m, 0x3F6) & 0x08, 0x08);
    machine_free(m);
}

TEST(ata_writes_by_dma)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    unsigned i;
    for (i = 0; i < 0x10000; i++)
        ram_at(m, 0x20000)[i] = (uint8_t)(i * 5 + (i >> 8));
    prd(m, 0, 0x20000, 0, false);
    prd(m, 1, 0x30000, 0, true);
    ata_setup(m, 0, 1000); /* 256 sectors */
    io_out(m, 0x1F7, 0xCA);
    CHECK_EQ(io_in(m, 0x3F6) & 0x88, 0x08);
    bm_start(m, false);
    CHECK_EQ(io_in(m, 0x3F6), 0x80);
    CHECK_EQ(ata_wait(m), 0x50);
    CHECK_EQ(io_in(m, 0xC002) & 7, 4);
    CHECK(!memcmp(ram_at(m, 0x20000), m->hd.bytes + 1000 * 512, 0x20000));
    machine_free(m);
}

/* 48-bit addresses beyond 2^28, counts beyond 256; the HOB bit shows what was written first (§6.2.1, §7.10). */
TEST(ata_lba48)
{
    struct machine *m = ata_machine(UINT64_C(1) << 42, false);
    uint64_t lba = UINT64_C(0x123456789);
    uint8_t sector[512];
    io_out(m, 0x1F6, 0x40);
    io_out(m, 0x1F2, 0), io_out(m, 0x1F3, lba >> 24 & 0xFF), io_out(m, 0x1F4, (unsigned)(lba >> 32)), io_out(m, 0x1F5, 0);
    io_out(m, 0x1F2, 1), io_out(m, 0x1F3, lba & 0xFF), io_out(m, 0x1F4, lba >> 8 & 0xFF), io_out(m, 0x1F5, lba >> 16 & 0xFF);
    CHECK_EQ(io_in(m, 0x1F3), 0x89);
    io_out(m, 0x3F6, 0x80);
    CHECK_EQ(io_in(m, 0x1F3), 0x23);
    CHECK_EQ(io_in(m, 0x1F4), 0x01);
    io_out(m, 0x1F7, 0x24);
    CHECK_EQ(ata_wait(m), 0x58);
    ata_get_data(m, sector, 512);
    CHECK_EQ(ld64le(sector), lba);
    io_out(m, 0x1F7, 0x27); /* READ NATIVE MAX ADDRESS EXT */
    ata_wait(m);
    CHECK_EQ(io_in(m, 0x1F3), 0xFF);
    CHECK_EQ(io_in(m, 0x1F5), 0xFF);
    io_out(m, 0x3F6, 0x80);
    CHECK_EQ(io_in(m, 0x1F4), 0x01); /* 2^33 - 1 */
    machine_free(m);
}

/* ATA-5: CHS by the translation that INITIALIZE DEVICE PARAMETERS sets. */
TEST(ata_chs_translation)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, false);
    uint8_t sector[512];
    io_out(m, 0x1F6, 0xA3), io_out(m, 0x1F2, 17), io_out(m, 0x1F7, 0x91); /* 4 heads, 17 sectors */
    CHECK_EQ(ata_wait(m), 0x50);
    io_out(m, 0x1F6, 0xA2), io_out(m, 0x1F2, 1), io_out(m, 0x1F3, 5), io_out(m, 0x1F4, 7), io_out(m, 0x1F5, 0);
    io_out(m, 0x1F7, 0x20);
    CHECK_EQ(ata_wait(m), 0x58);
    ata_get_data(m, sector, 512);
    CHECK_EQ(ld64le(sector), (7 * 4 + 2) * 17 + 4);
    io_out(m, 0x1F3, 18), io_out(m, 0x1F2, 1), io_out(m, 0x1F7, 0x20); /* no sector 18 */
    CHECK_EQ(ata_wait(m) & 0x89, 0x01);
    CHECK_EQ(io_in(m, 0x1F1), 0x10);
    machine_free(m);
}

TEST(ata_errors_as_hardware_shows_them)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    uint8_t data[512];
    unsigned i;
    ata_setup(m, 1, HD_SECTORS);
    io_out(m, 0x1F7, 0x20);
    CHECK_EQ(ata_wait(m), 0x51);
    CHECK_EQ(io_in(m, 0x1F1), 0x10); /* IDNF */
    CHECK_EQ(take_irq(m), 14);
    io_out(m, 0x1F7, 0x66); /* no such command */
    CHECK_EQ(io_in(m, 0x1F7), 0x51);
    CHECK_EQ(io_in(m, 0x1F1), 0x04);
    m->hd.bad_read = 52 * 512;
    ata_setup(m, 4, 50);
    io_out(m, 0x1F7, 0x20);
    for (i = 0; i < 2; i++) {
        CHECK_EQ(ata_wait(m), 0x58);
        ata_get_data(m, data, 512);
        CHECK(!memcmp(data, m->hd.bytes + (50 + i) * 512, 512));
    }
    CHECK_EQ(ata_wait(m), 0x51);
    CHECK_EQ(io_in(m, 0x1F1), 0x40); /* UNC, and the task file names the sector */
    CHECK_EQ(io_in(m, 0x1F3), 52);
    CHECK_EQ(io_in(m, 0x1F2), 2);
    m->hd.bad_write = 60 * 512;
    ata_setup(m, 1, 60);
    io_out(m, 0x1F7, 0x30);
    ata_put_data(m, data, 512);
    CHECK_EQ(ata_wait(m), 0x51);
    CHECK_EQ(io_in(m, 0x1F1), 0x04);
    m->hd_blk->read_only = true;
    ata_setup(m, 1, 1);
    io_out(m, 0x1F7, 0x30);
    CHECK_EQ(io_in(m, 0x1F7), 0x51);
    CHECK_EQ(io_in(m, 0x1F1), 0x04);
    machine_free(m);
}

TEST(ata_soft_reset_cancels)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    ata_setup(m, 1, 1);
    io_out(m, 0x1F7, 0x20);
    io_out(m, 0x3F6, 0x06); /* SRST with nIEN */
    CHECK_EQ(io_in(m, 0x3F6), 0x80);
    io_out(m, 0x3F6, 0x02);
    wait_ns(m, 10 * MS);
    CHECK_EQ(io_in(m, 0x3F6), 0x50);
    CHECK_EQ(take_irq(m), -1);
    ata_setup(m, 1, 1);
    io_out(m, 0x1F7, 0x20);
    CHECK_EQ(ata_wait(m), 0x58);
    CHECK_EQ(take_irq(m), -1); /* nIEN */
    io_out(m, 0x3F6, 0x00);
    CHECK_EQ(take_irq(m), 14); /* still pending */
    machine_free(m);
}

/* §9.16.1: device 0 answers for an absent device 1: its registers, but status 0. */
TEST(ata_absent_drives)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    io_out(m, 0x1F6, 0xB0);
    io_out(m, 0x1F2, 0x55), io_out(m, 0x1F3, 0xAA);
    CHECK_EQ(io_in(m, 0x1F2), 0x55);
    CHECK_EQ(io_in(m, 0x1F7), 0x00);
    io_out(m, 0x1F7, 0xEC);
    CHECK_EQ(io_in(m, 0x1F7), 0x00);
    CHECK_EQ(take_irq(m), -1);
    CHECK_EQ(io_in(m, 0x177), 0x00); /* nobody on the second channel */
    CHECK_EQ(io_in(m, 0x376), 0x00);
    machine_free(m);
}

/* ATA8-ACS-2 DATA SET MANAGEMENT: 8-byte entries, 48 bits LBA, 16 bits count, count 0 is padding. */
TEST(ata_trim)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    memset(ram_at(m, 0x2000), 0, 512);
    st64le(ram_at(m, 0x2000), 64 | UINT64_C(16) << 48);
    prd(m, 0, 0x2000, 512, true);
    ata_setup(m, 0, 0); /* a 48-bit command: each register is written twice */
    ata_setup(m, 1, 0);
    io_out(m, 0x1F1, 1);
    io_out(m, 0x1F7, 0x06);
    bm_start(m, false);
    CHECK_EQ(ata_wait(m), 0x50);
    CHECK_EQ(m->hd.discards, 1);
    CHECK_EQ(m->hd.discard_offset, 64 * 512);
    CHECK_EQ(m->hd.discard_size, 16 * 512);
    machine_free(m);
}

/* ==== CD-ROM ==== */

enum { CD_BLOCKS = 1000 };

static struct machine *cd_machine(void)
{
    struct machine *m = ata_machine(HD_SECTORS * 512, true);
    size_t i;
    m->cd_blk = fake_insert(m, &m->cd, "cd", CD_BLOCKS * 2048, true);
    m->cd_blk->read_only = true;
    for (i = 0; i < CD_BLOCKS * 2048; i++)
        m->cd.bytes[i] = (uint8_t)(i / 2048 + i * 3);
    add(m, "ide-cd", "drive=cd,bus=ide.1,unit=0");
    io_out(m, 0x176, 0xA0);
    return m;
}
static unsigned cd_wait(struct machine *m)
{
    int tries;
    for (tries = 0; tries < 1000 && (io_in(m, 0x376) & 0x80); tries++)
        wait_ns(m, 10 * US);
    return io_in(m, 0x376);
}
static unsigned cd_packet(struct machine *m, unsigned limit, bool dma, const uint8_t *packet)
{
    unsigned i;
    io_out(m, 0x171, dma), io_out(m, 0x174, limit & 0xFF), io_out(m, 0x175, limit >> 8), io_out(m, 0x177, 0xA0);
    if ((cd_wait(m) & 0x88) != 0x08 || io_in(m, 0x172) != 0x01) /* DRQ, C/D=1 I/O=0 */
        return 0xFFFF;
    for (i = 0; i < 12; i += 2)
        io_out16(m, 0x170, ld16le(packet + i));
    return cd_wait(m);
}
/* A command whose answer fits one DRQ block; its size, or 0x1000 | error register. */
static unsigned cd_ask(struct machine *m, const uint8_t *packet, uint8_t *answer)
{
    unsigned status = cd_packet(m, 0xFFFE, false, packet), n, i;
    if (status & 1)
        return 0x1000 | io_in(m, 0x171);
    if (!(status & 8))
        return 0;
    n = io_in(m, 0x174) | io_in(m, 0x175) << 8;
    for (i = 0; i < n; i += 2)
        st16le(answer + i, (uint16_t)io_in16(m, 0x170));
    cd_wait(m);
    return n;
}
static unsigned cd_sense(struct machine *m) /* key << 16 | code << 8 | qualifier */
{
    static const uint8_t sense[12] = { 0x03, 0, 0, 0, 18 };
    uint8_t a[64];
    cd_ask(m, sense, a);
    return (unsigned)a[2] << 16 | (unsigned)a[12] << 8 | a[13];
}

/* ATA/ATAPI-6 §8.15.5.2, §8.16: IDENTIFY DEVICE is aborted with the packet signature. */
TEST(atapi_signature_and_identify)
{
    struct machine *m = cd_machine();
    io_out(m, 0x376, 0x04), io_out(m, 0x376, 0x00);
    CHECK_EQ(io_in(m, 0x174), 0x14);
    CHECK_EQ(io_in(m, 0x175), 0xEB);
    CHECK_EQ(io_in(m, 0x177), 0x00);
    io_out(m, 0x176, 0xB0); /* no ghost of it as device 1 */
    CHECK_EQ(io_in(m, 0x177), 0x00);
    CHECK(io_in(m, 0x174) != 0x14);
    io_out(m, 0x176, 0xA0);
    io_out(m, 0x174, 0), io_out(m, 0x175, 0);
    io_out(m, 0x177, 0xEC);
    CHECK_EQ(io_in(m, 0x177) & 0x89, 0x01);
    CHECK_EQ(io_in(m, 0x171) & 4, 4);
    CHECK_EQ(io_in(m, 0x174), 0x14);
    CHECK_EQ(io_in(m, 0x175), 0xEB);
    io_out(m, 0x177, 0xA1);
    CHECK_EQ(cd_wait(m) & 0x89, 0x08);
    CHECK_EQ(io_in16(m, 0x170) & 0xDF83, 0x8580); /* ATAPI, CD-ROM, removable, 12-byte packets */
    machine_free(m);
}

TEST(atapi_reads_by_pio_in_pieces)
{
    static const uint8_t read[12] = { 0x28, 0, 0, 0, 0, 10, 0, 0, 2, 0 };
    struct machine *m = cd_machine();
    uint8_t data[4096];
    unsigned at = 0, status = cd_packet(m, 1500, false, read);
    unsigned pieces = 0;
    while (status & 8) {
        unsigned n = io_in(m, 0x174) | io_in(m, 0x175) << 8, i;
        CHECK_EQ(take_irq(m), 15);
        CHECK_EQ(io_in(m, 0x172), 0x02); /* data to the host */
        CHECK(n && n <= 1500 && at + n <= 4096);
        io_in(m, 0x177);
        for (i = 0; i < n; i += 2)
            st16le(data + at + i, (uint16_t)io_in16(m, 0x170));
        at += n;
        pieces++;
        status = cd_wait(m);
    }
    CHECK_EQ(at, 4096);
    CHECK_EQ(pieces, 3);
    CHECK_EQ(status, 0x50);
    CHECK_EQ(io_in(m, 0x172), 0x03); /* completion: C/D=1 I/O=1 */
    CHECK_EQ(take_irq(m), 15);
    CHECK(!memcmp(data, m->cd.bytes + 10 * 2048, 4096));
    machine_free(m);
}

TEST(atapi_reads_by_dma)
{
    static const uint8_t read[12] = { 0xA8, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0 };
    struct machine *m = cd_machine();
    prd(m, 0, 0x4000, 4096, true);
    port_write(&m->emu, 0xC00C, 0x1000, 4);
    io_out(m, 0xC00A, 0x06), io_out(m, 0xC008, 0x09);
    CHECK_EQ(cd_packet(m, 0, true, read), 0x50);
    CHECK_EQ(io_in(m, 0xC00A) & 7, 4);
    CHECK(!memcmp(ram_at(m, 0x4000), m->cd.bytes + 3 * 2048, 4096));
    machine_free(m);
}

/* MMC-3: INQUIRY, READ CAPACITY, READ TOC formats 0-2, GET CONFIGURATION, MODE SENSE. */
TEST(atapi_describes_itself)
{
    static const uint8_t inquiry[12] = { 0x12, 0, 0, 0, 36 }, capacity[12] = { 0x25 };
    static const uint8_t toc[12] = { 0x43, 2, 0, 0, 0, 0, 0, 0, 64 }, full[12] = { 0x43, 2, 2, 0, 0, 0, 0, 0, 64 };
    static const uint8_t session[12] = { 0x43, 0, 1, 0, 0, 0, 0, 0, 64 };
    static const uint8_t config[12] = { 0x46, 0, 0, 0, 0, 0, 0, 0, 64 }, mode[12] = { 0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 64 };
    struct machine *m = cd_machine();
    uint8_t a[128];
    CHECK_EQ(cd_ask(m, inquiry, a), 36);
    CHECK_EQ(a[0], 0x05);
    CHECK_EQ(a[1], 0x80);
    CHECK_EQ(cd_ask(m, capacity, a), 8);
    CHECK_EQ(ld32be(a), CD_BLOCKS - 1);
    CHECK_EQ(ld32be(a + 4), 2048);
    CHECK_EQ(cd_ask(m, toc, a), 20);
    CHECK_EQ(ld16be(a), 18);
    CHECK_EQ(a[5], 0x14);
    CHECK_EQ(a[6], 1);
    CHECK_EQ(ld32be(a + 8), 0x000200); /* track 1 at 00:02:00 */
    CHECK_EQ(a[14], 0xAA);
    CHECK_EQ(ld32be(a + 16), 0x00000F19); /* block 1000: 1150 frames = 15 s 25 f */
    CHECK_EQ(cd_ask(m, session, a), 12);
    CHECK_EQ(ld16be(a), 10);
    CHECK_EQ(cd_ask(m, full, a), 4 + 4 * 11);
    CHECK_EQ(a[7], 0xA0);
    CHECK_EQ(cd_ask(m, config, a), ld32be(a) + 4);
    CHECK_EQ(ld16be(a + 6), 0x0008); /* CD-ROM */
    CHECK_EQ(cd_ask(m, mode, a), 28);
    CHECK_EQ(a[8], 0x2A);
    machine_free(m);
}

/* SPC-2: not ready without medium; unit attention once after a change. MMC-3 GET EVENT STATUS NOTIFICATION. */
TEST(atapi_media_change)
{
    static const uint8_t ready[12] = { 0x00 }, event[12] = { 0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8 };
    static const uint8_t lock[12] = { 0x1E, 0, 0, 0, 1 }, unlock[12] = { 0x1E }, eject[12] = { 0x1B, 0, 0, 0, 2 }, load[12] = { 0x1B, 0, 0, 0, 3 };
    static const uint8_t far_away[12] = { 0x28, 0, 0, 0, 0x10, 0, 0, 0, 1 };
    struct machine *m = cd_machine();
    uint8_t a[64];
    CHECK_EQ(cd_ask(m, ready, a), 0);
    CHECK_EQ(cd_ask(m, far_away, a) & 0x10F4, 0x1054);
    CHECK_EQ(cd_sense(m), 0x052100);
    m->cd_blk->image = NULL;
    m->cd_blk->media_changed(m->cd_blk->opaque);
    CHECK_EQ(cd_ask(m, ready, a) & 0x10F0, 0x1020);
    CHECK_EQ(cd_sense(m), 0x023A00);
    CHECK_EQ(cd_ask(m, event, a), 8);
    CHECK_EQ(a[4], 3); /* removed */
    CHECK_EQ(a[5], 0);
    m->cd_blk->image = &m->cd.image;
    m->cd_blk->media_changed(m->cd_blk->opaque);
    CHECK_EQ(cd_ask(m, event, a), 8);
    CHECK_EQ(a[4], 2); /* new */
    CHECK_EQ(a[5], 2); /* present */
    CHECK_EQ(cd_ask(m, ready, a) & 0x10F0, 0x1060);
    CHECK_EQ(cd_sense(m), 0x062800);
    CHECK_EQ(cd_ask(m, ready, a), 0);
    CHECK_EQ(cd_sense(m), 0);
    cd_ask(m, lock, a);
    CHECK_EQ(cd_ask(m, eject, a) & 0x10F0, 0x1050);
    CHECK_EQ(cd_sense(m), 0x055302);
    cd_ask(m, unlock, a);
    CHECK_EQ(cd_ask(m, eject, a), 0);
    CHECK(m->cd_blk->tray_open);
    CHECK_EQ(cd_ask(m, ready, a) & 0x10F0, 0x1020);
    cd_ask(m, load, a);
    CHECK(!m->cd_blk->tray_open);
    machine_free(m);
}

/* ==== VGA ==== */

static struct machine *vga_machine(void)
{
    struct machine *m = machine_new();
    add(m, "VGA", "");
    io_out(m, 0x3C2, 0x67);
    return m;
}
static void vga_set(struct machine *m, unsigned port, unsigned index, unsigned v) { io_out16(m, port, index | v << 8); }
static void vga_attr(struct machine *m, unsigned index, unsigned v)
{
    io_in(m, 0x3DA);
    io_out(m, 0x3C0, index);
    io_out(m, 0x3C0, v);
}
static unsigned vga_peek(struct machine *m, unsigned plane, unsigned offset)
{
    vga_set(m, 0x3CE, 4, plane);
    return (unsigned)mem_ld(&m->emu, 0xA0000 + offset, 1);
}
static void vga_poke(struct machine *m, unsigned offset, unsigned v) { mem_st(&m->emu, 0xA0000 + offset, v, 1); }
/* Planar 16-colour addressing at A0000h with neutral logic. */
static void vga_planar(struct machine *m)
{
    static const uint8_t gc[9] = { 0, 0, 0, 0, 0, 0, 0x05, 0x0F, 0xFF };
    unsigned i;
    vga_set(m, 0x3C4, 2, 0x0F), vga_set(m, 0x3C4, 4, 0x06);
    for (i = 0; i < 9; i++)
        vga_set(m, 0x3CE, i, gc[i]);
}

/* IBM PS/2 HITR, Video Subsystem, graphics controller: write modes 0-3, functions, latches, read modes. */
TEST(vga_write_modes)
{
    struct machine *m = vga_machine();
    unsigned p;
    vga_planar(m);
    vga_poke(m, 0, 0xA5);
    for (p = 0; p < 4; p++)
        CHECK_EQ(vga_peek(m, p, 0), 0xA5);
    vga_set(m, 0x3C4, 2, 0x02);
    vga_poke(m, 0, 0x0F); /* plane 1 only */
    CHECK_EQ(vga_peek(m, 0, 0), 0xA5);
    CHECK_EQ(vga_peek(m, 1, 0), 0x0F);
    vga_set(m, 0x3C4, 2, 0x0F);
    /* set/reset: planes 0 and 2 enabled, value 4: plane 0 = 0, plane 2 = FF, the rest from the CPU */
    vga_set(m, 0x3CE, 0, 0x04), vga_set(m, 0x3CE, 1, 0x05);
    vga_poke(m, 1, 0x3C);
    CHECK_EQ(vga_peek(m, 0, 1), 0x00);
    CHECK_EQ(vga_peek(m, 1, 1), 0x3C);
    CHECK_EQ(vga_peek(m, 2, 1), 0xFF);
    vga_set(m, 0x3CE, 1, 0x00);
    /* bit mask keeps latched bits; rotate; XOR */
    vga_poke(m, 2, 0xF0);
    vga_peek(m, 0, 2);
    vga_set(m, 0x3CE, 8, 0x3C);
    vga_poke(m, 2, 0x0F);
    CHECK_EQ(vga_peek(m, 3, 2), 0xCC);
    vga_set(m, 0x3CE, 8, 0xFF);
    vga_set(m, 0x3CE, 3, 0x04); /* rotate right by 4 */
    vga_poke(m, 3, 0x1E);
    CHECK_EQ(vga_peek(m, 0, 3), 0xE1);
    vga_set(m, 0x3CE, 3, 0x18); /* XOR with the latch (E1) */
    vga_poke(m, 3, 0xFF);
    CHECK_EQ(vga_peek(m, 0, 3), 0x1E);
    vga_set(m, 0x3CE, 3, 0x00);
    /* write mode 1: latches are copied, the CPU's byte is ignored */
    vga_poke(m, 4, 0x77);
    vga_set(m, 0x3C4, 2, 0x08), vga_poke(m, 4, 0x11), vga_set(m, 0x3C4, 2, 0x0F);
    vga_peek(m, 0, 4);
    vga_set(m, 0x3CE, 5, 0x01);
    vga_poke(m, 5, 0x00);
    CHECK_EQ(vga_peek(m, 0, 5), 0x77);
    CHECK_EQ(vga_peek(m, 3, 5), 0x11);
    /* write mode 2: low four bits are a colour */
    vga_set(m, 0x3CE, 5, 0x02);
    vga_poke(m, 6, 0x0A);
    CHECK_EQ(vga_peek(m, 0, 6), 0x00);
    CHECK_EQ(vga_peek(m, 1, 6), 0xFF);
    CHECK_EQ(vga_peek(m, 2, 6), 0x00);
    CHECK_EQ(vga_peek(m, 3, 6), 0xFF);
    /* write mode 3: set/reset colour where mask AND data has ones, latch elsewhere */
    vga_set(m, 0x3CE, 5, 0x03), vga_set(m, 0x3CE, 0, 0x01), vga_set(m, 0x3CE, 8, 0xF0);
    vga_peek(m, 0, 6);
    vga_poke(m, 6, 0x3C);
    CHECK_EQ(vga_peek(m, 0, 6), 0x30);
    CHECK_EQ(vga_peek(m, 1, 6), 0xCF);
    /* read mode 1: ones where the pixel has the compared colour, "don't care" planes left out */
    vga_set(m, 0x3CE, 5, 0x08), vga_set(m, 0x3CE, 2, 0x01), vga_set(m, 0x3CE, 7, 0x0F);
    CHECK_EQ(vga_peek(m, 0, 6), 0x30);
    vga_set(m, 0x3CE, 7, 0x00);
    CHECK_EQ(vga_peek(m, 0, 6), 0xFF);
    machine_free(m);
}

/* Mode 13h is linear; switching chain-4 off shows every fourth byte per plane (mode X). */
TEST(vga_chain4_and_unchained)
{
    struct machine *m = vga_machine();
    uint64_t size = 16;
    unsigned i;
    vga_planar(m);
    vga_set(m, 0x3C4, 4, 0x0E), vga_set(m, 0x3CE, 5, 0x40);
    CHECK(mem_host(&m->emu, 0xA0000, &size, true) != NULL); /* plain RAM: the quick way */
    for (i = 0; i < 8; i++)
        vga_poke(m, i, 0x10 + i);
    CHECK_EQ(mem_ld(&m->emu, 0xA0004, 4), 0x17161514);
    vga_set(m, 0x3C4, 4, 0x06);
    CHECK(mem_host(&m->emu, 0xA0000, &size, true) == NULL);
    CHECK_EQ(vga_peek(m, 2, 1), 0x16);
    vga_set(m, 0x3C4, 2, 0x04);
    vga_poke(m, 1, 0x99);
    vga_set(m, 0x3C4, 2, 0x0F), vga_set(m, 0x3C4, 4, 0x0E);
    CHECK_EQ(mem_ld(&m->emu, 0xA0006, 1), 0x99);
    vga_set(m, 0x3CE, 8, 0x0F); /* a bit mask works in chain-4 too: no plain RAM now */
    CHECK(mem_host(&m->emu, 0xA0000, &size, true) == NULL);
    CHECK_EQ(mem_ld(&m->emu, 0xA0006, 1), 0x99);
    vga_poke(m, 6, 0x55);
    CHECK_EQ(mem_ld(&m->emu, 0xA0006, 1), 0x95);
    machine_free(m);
}

/* BIOS mode 3 as IBM's tables have it (PS/2 HITR): 80x25, 9x16 characters. */
static void vga_mode3(struct machine *m)
{
    static const uint8_t crtc[25] = { 0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00,
                                      0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF };
    static const uint8_t attr[16] = { 0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F };
    static const uint8_t seq[5] = { 3, 0, 3, 0, 2 }, gc[9] = { 0, 0, 0, 0, 0, 0x10, 0x0E, 0, 0xFF };
    unsigned i;
    io_out(m, 0x3C2, 0x67);
    for (i = 0; i < 5; i++)
        vga_set(m, 0x3C4, i, seq[i]);
    vga_set(m, 0x3D4, 0x11, 0);
    for (i = 0; i < 25; i++)
        vga_set(m, 0x3D4, i, crtc[i]);
    for (i = 0; i < 9; i++)
        vga_set(m, 0x3CE, i, gc[i]);
    for (i = 0; i < 16; i++)
        vga_attr(m, i, attr[i]);
    vga_attr(m, 0x10, 0x0C), vga_attr(m, 0x12, 0x0F), vga_attr(m, 0x13, 0x08), vga_attr(m, 0x14, 0);
    io_in(m, 0x3DA);
    io_out(m, 0x3C0, 0x20);
    io_out(m, 0x3C8, 0); /* DAC: entry n is (n, 2n & 63, 63 - n) */
    for (i = 0; i < 64; i++)
        io_out(m, 0x3C9, i), io_out(m, 0x3C9, 2 * i & 63), io_out(m, 0x3C9, 63 - i);
}
static unsigned vga_six_to_eight(unsigned v) { return v << 2 | v >> 4; }
static uint32_t vga_test_color(unsigned n)
{
    return (uint32_t)vga_six_to_eight(n) << 16 | vga_six_to_eight(2 * n & 63) << 8 | vga_six_to_eight(63 - n);
}

TEST(vga_text_mode)
{
    struct machine *m = vga_machine();
    static struct screen_text text;
    struct screen s;
    struct display_source *d = m->emu.display;
    unsigned x;
    vga_mode3(m);
    /* a glyph for C4h (line drawing) and for 'A', through plane 2 as the BIOS loads fonts */
    vga_set(m, 0x3C4, 2, 4), vga_set(m, 0x3C4, 4, 6), vga_set(m, 0x3CE, 5, 0), vga_set(m, 0x3CE, 6, 4);
    vga_poke(m, 0xC4 * 32 + 3, 0xFF);
    vga_poke(m, 'A' * 32 + 3, 0x81);
    vga_set(m, 0x3C4, 2, 3), vga_set(m, 0x3C4, 4, 2), vga_set(m, 0x3CE, 5, 0x10), vga_set(m, 0x3CE, 6, 0x0E);
    mem_st(&m->emu, 0xB8000, 0x1E41, 2); /* 'A' yellow on blue */
    mem_st(&m->emu, 0xB8002, 0x07C4, 2);
    mem_st(&m->emu, 0xB8000 + 24 * 160, 0x0742, 2);
    CHECK_EQ(mem_ld(&m->emu, 0xB8000, 4), 0x07C41E41);
    vga_set(m, 0x3D4, 0x0E, 0), vga_set(m, 0x3D4, 0x0F, 81);
    CHECK(d->text(d->opaque, &text));
    CHECK_EQ(text.columns, 80);
    CHECK_EQ(text.rows, 25);
    CHECK_EQ(text.cells[0], 0x1E41);
    CHECK_EQ(text.cells[24 * 80], 0x0742);
    CHECK_EQ(text.cursor_x, 1);
    CHECK_EQ(text.cursor_y, 1);
    CHECK(text.cursor_on);
    d->update(d->opaque, &s);
    CHECK_EQ(s.width, 720);
    CHECK_EQ(s.height, 400);
    CHECK_EQ(s.pixels[0], vga_test_color(1)); /* row 0 of the glyph is empty: background */
    for (x = 0; x < 9; x++) /* bits 7 and 0 set; the ninth dot is background */
        CHECK_EQ(s.pixels[3 * s.stride_pixels + x], x == 0 || x == 7 ? vga_test_color(0x3E) : vga_test_color(1));
    for (x = 9; x < 18; x++) /* C0h-DFh repeat the eighth dot */
        CHECK_EQ(s.pixels[3 * s.stride_pixels + x], vga_test_color(7));
    /* start address scrolls */
    vga_set(m, 0x3D4, 0x0D, 80);
    CHECK(d->text(d->opaque, &text));
    CHECK_EQ(text.cells[23 * 80], 0x0742);
    CHECK_EQ(text.cursor_y, 0);
    machine_free(m);
}

TEST(vga_change_count_follows_writes)
{
    struct machine *m = vga_machine();
    struct display_source *d = m->emu.display;
    uint64_t n;
    vga_mode3(m);
    vga_set(m, 0x3D4, 0x0A, 0x20); /* no cursor, so nothing blinks */
    vga_attr(m, 0x10, 0x04);
    io_in(m, 0x3DA);
    io_out(m, 0x3C0, 0x20);
    d->change_count(d->opaque);
    n = d->change_count(d->opaque);
    CHECK_EQ(d->change_count(d->opaque), n);
    mem_st(&m->emu, 0xB8000, 0x0741, 2);
    CHECK(d->change_count(d->opaque) > n);
    n = d->change_count(d->opaque);
    wait_ns(m, 500 * MS);
    CHECK_EQ(d->change_count(d->opaque), n);
    vga_set(m, 0x3D4, 0x0D, 80);
    CHECK(d->change_count(d->opaque) > n);
    machine_free(m);
}

/* Mode 3: 449 lines of 31.778 us; retrace is two lines, the display off for 49 of them (28.322 MHz, 900 dots). */
TEST(vga_status_follows_virtual_time)
{
    struct machine *m = vga_machine();
    unsigned retrace = 0, off = 0, i, frames = 0, last = 0;
    vga_mode3(m);
    for (i = 0; i < 100000; i++) { /* 100 ms in steps of 1 us */
        unsigned v = io_in(m, 0x3DA);
        retrace += v >> 3 & 1;
        off += v & 1;
        frames += (v & 8) && !last;
        last = v & 8;
        wait_ns(m, 1 * US);
    }
    CHECK_EQ(frames, 7); /* 70.09 Hz */
    CHECK(retrace >= 430 && retrace <= 460); /* 7 times 63.6 us */
    CHECK(off > 27000 && off < 31000); /* 1 - (400/449)(640*9/8 / 900) = 28.7 % */
    machine_free(m);
}

/* Sixteen-colour planar picture, line compare, and mode 13h. */
TEST(vga_graphics_pictures)
{
    struct machine *m = vga_machine();
    struct display_source *d = m->emu.display;
    struct screen s;
    unsigned i;
    vga_mode3(m);
    vga_planar(m);
    vga_set(m, 0x3C4, 1, 1);
    vga_attr(m, 0x10, 1), vga_attr(m, 0x13, 0);
    io_in(m, 0x3DA);
    io_out(m, 0x3C0, 0x20);
    vga_set(m, 0x3D4, 0x11, 0x0E), vga_set(m, 0x3D4, 0x09, 0x40), vga_set(m, 0x3D4, 0x17, 0xE3);
    for (i = 0; i < 4; i++) {
        vga_set(m, 0x3C4, 2, 1 << i);
        vga_poke(m, 80, 0x80 >> i); /* line 1: pixel i has bit i */
    }
    d->update(d->opaque, &s);
    CHECK_EQ(s.width, 640);
    CHECK_EQ(s.height, 400);
    CHECK_EQ(s.pixels[0], vga_test_color(0));
    CHECK_EQ(s.pixels[s.stride_pixels + 0], vga_test_color(1));
    CHECK_EQ(s.pixels[s.stride_pixels + 1], vga_test_color(2));
    CHECK_EQ(s.pixels[s.stride_pixels + 2], vga_test_color(4));
    CHECK_EQ(s.pixels[s.stride_pixels + 3], vga_test_color(0x38));
    vga_set(m, 0x3D4, 0x18, 99), vga_set(m, 0x3D4, 0x07, 0x0F), vga_set(m, 0x3D4, 0x09, 0x00); /* split after line 99 */
    d->update(d->opaque, &s);
    CHECK_EQ(s.pixels[101 * s.stride_pixels + 1], vga_test_color(2));
    vga_set(m, 0x3D4, 0x18, 0xFF), vga_set(m, 0x3D4, 0x07, 0x1F), vga_set(m, 0x3D4, 0x09, 0x41);
    /* mode 13h */
    vga_set(m, 0x3C4, 2, 0x0F), vga_set(m, 0x3C4, 4, 0x0E), vga_set(m, 0x3CE, 5, 0x40);
    vga_attr(m, 0x10, 0x41);
    io_in(m, 0x3DA);
    io_out(m, 0x3C0, 0x20);
    vga_poke(m, 320 * 5 + 7, 33);
    d->update(d->opaque, &s);
    CHECK_EQ(s.width, 640);
    for (i = 0; i < 4; i++) /* each pixel is two dots wide and two lines high */
        CHECK_EQ(s.pixels[(10 + i / 2) * s.stride_pixels + 14 + i % 2], vga_test_color(33));
    CHECK_EQ(s.pixels[10 * s.stride_pixels + 16], vga_test_color(0));
    machine_free(m);
}

/* BIOS modes 4 and 6 with IBM's register values: even lines at B8000h, odd ones at BA000h, as on a CGA. */
static void vga_cga_mode(struct machine *m, bool hires)
{
    static const uint8_t crtc[2][25] = { { 0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF },
                                         { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF } };
    static const uint8_t seq[2][5] = { { 3, 0x09, 3, 0, 2 }, { 3, 0x01, 1, 0, 6 } };
    static const uint8_t gc[2][9] = { { 0, 0, 0, 0, 0, 0x30, 0x0F, 0, 0xFF }, { 0, 0, 0, 0, 0, 0x00, 0x0D, 0, 0xFF } };
    static const uint8_t attr[2][4] = { { 0x00, 0x13, 0x15, 0x17 }, { 0x00, 0x17, 0x17, 0x17 } };
    unsigned i;
    vga_mode3(m);
    for (i = 0; i < 5; i++)
        vga_set(m, 0x3C4, i, seq[hires][i]);
    vga_set(m, 0x3D4, 0x11, 0);
    for (i = 0; i < 25; i++)
        vga_set(m, 0x3D4, i, crtc[hires][i]);
    for (i = 0; i < 9; i++)
        vga_set(m, 0x3CE, i, gc[hires][i]);
    for (i = 0; i < 4; i++)
        vga_attr(m, i, attr[hires][i]);
    vga_attr(m, 0x10, 1), vga_attr(m, 0x12, hires ? 1 : 3), vga_attr(m, 0x13, 0);
    io_in(m, 0x3DA);
    io_out(m, 0x3C0, 0x20);
    for (i = 0; i < 0x4000; i += 4)
        mem_st(&m->emu, 0xB8000 + i, 0, 4);
}

TEST(vga_cga_pictures)
{
    struct machine *m = vga_machine();
    struct display_source *d = m->emu.display;
    struct screen s;
    unsigned i;
    vga_cga_mode(m, false);
    mem_st(&m->emu, 0xB8000, 0x1B, 1);          /* line 0: colours 0 1 2 3 */
    mem_st(&m->emu, 0xB8000 + 0x2000 + 81, 0xC0, 1); /* line 3, pixel 4: colour 3 */
    CHECK_EQ(mem_ld(&m->emu, 0xB8000 + 0x2000 + 81, 1), 0xC0);
    d->update(d->opaque, &s);
    CHECK_EQ(s.width, 640);
    CHECK_EQ(s.height, 400);
    CHECK_EQ(s.pixels[0], vga_test_color(0));
    CHECK_EQ(s.pixels[2], vga_test_color(0x13));
    CHECK_EQ(s.pixels[4], vga_test_color(0x15));
    CHECK_EQ(s.pixels[6], vga_test_color(0x17));
    for (i = 6; i < 8; i++) {
        CHECK_EQ(s.pixels[(int)i * s.stride_pixels + 8], vga_test_color(0x17));
        CHECK_EQ(s.pixels[(int)i * s.stride_pixels + 10], vga_test_color(0));
    }
    CHECK_EQ(s.pixels[8 * s.stride_pixels + 8], vga_test_color(0));
    vga_cga_mode(m, true);
    mem_st(&m->emu, 0xB8000 + 80, 0x40, 1);     /* line 2, pixel 1 */
    mem_st(&m->emu, 0xB8000 + 0x2000, 0x80, 1); /* line 1, pixel 0 */
    d->update(d->opaque, &s);
    CHECK_EQ(s.width, 640);
    CHECK_EQ(s.pixels[4 * s.stride_pixels + 1], vga_test_color(0x17));
    CHECK_EQ(s.pixels[2 * s.stride_pixels], vga_test_color(0x17));
    CHECK_EQ(s.pixels[0], vga_test_color(0));
    machine_free(m);
}

static void dispi(struct machine *m, unsigned index, unsigned v)
{
    io_out16(m, 0x1CE, index);
    io_out16(m, 0x1CF, v);
}
static unsigned dispi_get(struct machine *m, unsigned index)
{
    io_out16(m, 0x1CE, index);
    return io_in16(m, 0x1CF);
}

TEST(vga_dispi_modes)
{
    struct machine *m = vga_machine();
    struct display_source *d = m->emu.display;
    struct pci_device *pci = m->emu.pci->devices[2 << 3];
    struct screen s;
    CHECK_EQ(pci_config_read(pci, 0, 4), 0x11111234);
    CHECK_EQ(pci_config_read(pci, 8, 4), 0x03000002);
    pci_config_write(pci, 0x10, 0xE0000000u, 4), pci_config_write(pci, 0x18, 0xF0000000u, 4), pci_config_write(pci, 4, 7, 2);
    CHECK_EQ(dispi_get(m, 0), 0xB0C5);
    CHECK_EQ(dispi_get(m, 10), 256);
    dispi(m, 4, 0);
    dispi(m, 1, 640), dispi(m, 2, 480), dispi(m, 3, 32);
    dispi(m, 4, 0x41);
    vga_attr(m, 0, 0);
    io_out(m, 0x3C0, 0x20);
    mem_st(&m->emu, 0xE0000000u + (640 * 3 + 5) * 4, 0x00123456, 4);
    d->update(d->opaque, &s);
    CHECK_EQ(s.width, 640);
    CHECK_EQ(s.height, 480);
    CHECK_EQ(s.pixels[3 * s.stride_pixels + 5], 0x123456);
    /* panning in a wider virtual screen, through the registers of BAR 2 */
    CHECK_EQ(mem_ld(&m->emu, 0xF0000500u, 2), 0xB0C5);
    mem_st(&m->emu, 0xF0000500u + 2 * 6, 800, 2);
    CHECK_EQ(dispi_get(m, 6), 800);
    CHECK_EQ(dispi_get(m, 7), 16 * 1024 * 1024 / 3200);
    dispi(m, 8, 8), dispi(m, 9, 2);
    mem_st(&m->emu, 0xE0000000u + (800 * 2 + 8) * 4, 0xABCDEF, 4);
    d->update(d->opaque, &s);
    CHECK_EQ(s.pixels[0], 0xABCDEF);
    /* bank window */
    dispi(m, 5, 3);
    mem_st(&m->emu, 0xA0010, 0x77, 1);
    CHECK_EQ(mem_ld(&m->emu, 0xE0030010u, 1), 0x77);
    /* capabilities; nonsense is cut down, not obeyed */
    dispi(m, 4, 0x43);
    CHECK_EQ(dispi_get(m, 3), 32);
    CHECK(dispi_get(m, 1) >= 1920);
    dispi(m, 4, 0);
    dispi(m, 1, 65535), dispi(m, 2, 65535), dispi(m, 3, 77), dispi(m, 8, 65535), dispi(m, 9, 65535);
    dispi(m, 4, 0x41);
    dispi(m, 8, 65535), dispi(m, 9, 65535);
    d->update(d->opaque, &s);
    CHECK((uint64_t)s.width * (uint64_t)s.height <= 16 * MIB);
    /* 16 bpp */
    dispi(m, 4, 0);
    dispi(m, 1, 320), dispi(m, 2, 200), dispi(m, 3, 16);
    dispi(m, 4, 0x41);
    mem_st(&m->emu, 0xE0000000u, 0xF81F, 2);
    d->update(d->opaque, &s);
    CHECK_EQ(s.pixels[0], 0xFF00FF);
    machine_free(m);
}

/* ==== hostile guest ==== */

/* Random accesses to every register of every device, with DMA lists and commands of chance; under ASan and UBSan this finds what the
 * bounds checks forget. The image must have been written only inside itself, which the sanitizers see. */
TEST(random_traffic_does_no_harm)
{
    static const uint16_t ports[] = { 0x1F0, 0x1F1, 0x1F2, 0x1F3, 0x1F4, 0x1F5, 0x1F6, 0x1F7, 0x3F6, 0x170, 0x171, 0x172, 0x173, 0x174, 0x175, 0x176,
                                      0x177, 0x376, 0xC000, 0xC002, 0xC008, 0xC00A, 0x60, 0x64, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD,
                                      0x378, 0x379, 0x37A, 0x3C0, 0x3C1, 0x3C2, 0x3C4, 0x3C5, 0x3C8, 0x3C9, 0x3CE, 0x3CF, 0x3D4, 0x3D5, 0x3DA,
                                      0x1CE, 0x1CF };
    static const uint8_t commands[] = { 0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x40, 0xA0, 0xA0, 0xB0, 0xC4, 0xC5, 0xC6, 0xC8, 0xCA, 0xEC, 0xEF, 0xE7, 0x06, 0x91, 0x08, 0x90 };
    static const uint8_t packets[] = { 0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x28, 0x2B, 0x43, 0x46, 0x4A, 0x51, 0x52, 0x5A, 0xA8, 0xBD, 0xBE };
    struct machine *m = cd_machine();
    static struct screen_text text;
    struct screen s;
    uint64_t r = 88172645463325252u;
    unsigned i;
    add(m, "VGA", ""), add(m, "i8042", ""), add(m, "isa-serial", "chardev=t0"), add(m, "isa-parallel", "");
    pci_config_write(m->emu.pci->devices[2 << 3], 0x10, 0xE0000000u, 4), pci_config_write(m->emu.pci->devices[2 << 3], 4, 7, 2);
    for (i = 0; i < 600000; i++) {
        uint16_t port;
        unsigned size, v;
        r ^= r << 13, r ^= r >> 7, r ^= r << 17; /* xorshift64 */
        port = ports[(r >> 8) % EMU_ARRAY_LEN(ports)];
        size = 1u << (r >> 40) % 3;
        v = (unsigned)(r >> 16);
        if ((port & 0xFF7F) == 0x376 && (r >> 33 & 15)) /* SRST seldom, or little else would happen */
            v &= ~4u;
        if ((r & 7) < 4 && (port & 0xFF7F) != 0x177)
            port_write(&m->emu, port, v, size);
        else if ((r & 7) == 4)
            mem_st(&m->emu, 0xA0000 + (v & 0x1FFFF), r >> 32, size);
        else if ((r & 7) == 5)
            mem_ld(&m->emu, 0xA0000 + (v & 0x1FFFF), size);
        else
            port_read(&m->emu, port, size);
        if ((r >> 50 & 15) == 0) { /* a command with mostly sensible registers, and data for it */
            unsigned k, base = r & 1 ? 0x1F0 : 0x170;
            io_out(m, base + 6, r & 2 ? 0xE0 : (unsigned)(r >> 12 & 0xFF));
            for (k = 2; k < 6; k++)
                io_out(m, base + k, r & 4 ? 0 : (unsigned)(r >> k) & 0xFF);
            io_out(m, base + 1, (unsigned)(r >> 30) & 3);
            io_out(m, base + 2, (unsigned)(r >> 8) & (r & 8 ? 0xFF : 7));
            io_out(m, base + 3, (unsigned)(r >> 12) & 0xFF);
            io_out(m, base + 4, (unsigned)(r >> 18) & 15), io_out(m, base + 5, (r >> 38 & 15) == 0);
            io_out(m, base + 7, commands[(r >> 20) % sizeof commands]);
            io_out16(m, base, packets[(r >> 28) % sizeof packets]);
            for (k = 0; k < (r >> 24 & 31); k++)
                io_out16(m, base, (unsigned)(r >> (k & 31)) & (k == 1 ? 0xFF03u : k == 3 ? 0x103Fu : k < 3 ? 0 : 0xFFFFu));
        }
        if ((r >> 50 & 15) == 6) { /* drain a data block */
            unsigned k, base = r & 1 ? 0x1F0 : 0x170;
            for (k = 0; k < 1024 && (io_in(m, base + 0x206) & 8); k++)
                port_read(&m->emu, (uint16_t)base, 4);
        }
        if ((r >> 50 & 63) == 7) {
            port_write(&m->emu, 0xC00C, 0x1000, 4);
            io_out(m, 0xC008, 0), io_out(m, 0xC008, 0x09);
            bm_start(m, r & 1);
        }
        if ((r >> 50 & 255) == 8) {
            unsigned port_of = r & 1 ? 0x3F6 : 0x376;
            io_out(m, port_of, 4), io_out(m, port_of, 0);
        }
        if ((r >> 50 & 15) == 1)
            wait_ns(m, (int64_t)(r >> 20 & 0x3FFFF));
        if ((r >> 50 & 255) == 2) {
            input_key(&m->emu, (int)(v & 0xFF), r & 1);
            input_mouse(&m->emu, (int)(v & 1023) - 512, (int)(v >> 8 & 1023) - 512, (int)(v & 15) - 8, v & 31);
            if (m->chr.can_receive(m->chr.opaque))
                uart_type(m, "z");
        }
        if ((r >> 50 & 255) == 3)
            st64le(ram_at(m, 0x1000 + (v & 0x3F8)), r * 7);
        if ((r >> 50 & 2047) == 4) {
            m->emu.display->update(m->emu.display->opaque, &s);
            m->emu.display->text(m->emu.display->opaque, &text);
            m->emu.display->change_count(m->emu.display->opaque);
        }
        if ((r >> 50 & 8191) == 5) { /* a system reset in between */
            struct device *dev;
            for (dev = m->emu.devices; dev; dev = dev->next)
                if (dev->cls->reset && strcmp(dev->cls->name, "i8259"))
                    dev->cls->reset(dev);
        }
        m->sent_count = 0;
    }
    CHECK_EQ(i, 600000);
    machine_free(m);
}

TEST_MAIN(TEST_CASE(random_traffic_does_no_harm), TEST_CASE(uart_is_a_16550a), TEST_CASE(uart_transmitter_interrupt), TEST_CASE(uart_thr_written_without_reading_iir_interrupts_again), TEST_CASE(uart_waits_for_a_full_backend),
          TEST_CASE(uart_receiver_levels_and_timeout), TEST_CASE(uart_loopback), TEST_CASE(uart_interrupt_priorities),
          TEST_CASE(parallel_sends_on_strobe), TEST_CASE(ps2_controller_self_tests_and_mode), TEST_CASE(ps2_keyboard_reset_and_identify),
          TEST_CASE(ps2_scan_codes), TEST_CASE(ps2_byte_can_be_read_twice), TEST_CASE(ps2_mouse_packets), TEST_CASE(ps2_a20_and_reset),
          TEST_CASE(ata_signature_and_identify), TEST_CASE(ata_reads_by_pio), TEST_CASE(ata_writes_by_pio_and_flushes),
          TEST_CASE(ata_reads_by_dma), TEST_CASE(ata_writes_by_dma), TEST_CASE(ata_lba48), TEST_CASE(ata_chs_translation),
          TEST_CASE(ata_errors_as_hardware_shows_them), TEST_CASE(ata_soft_reset_cancels), TEST_CASE(ata_absent_drives), TEST_CASE(ata_trim),
          TEST_CASE(atapi_signature_and_identify), TEST_CASE(atapi_reads_by_pio_in_pieces), TEST_CASE(atapi_reads_by_dma),
          TEST_CASE(atapi_describes_itself), TEST_CASE(atapi_media_change), TEST_CASE(vga_write_modes), TEST_CASE(vga_chain4_and_unchained),
          TEST_CASE(vga_text_mode), TEST_CASE(vga_change_count_follows_writes), TEST_CASE(vga_status_follows_virtual_time),
          TEST_CASE(vga_graphics_pictures), TEST_CASE(vga_cga_pictures), TEST_CASE(vga_dispi_modes))
