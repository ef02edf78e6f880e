/* tests/dev_e1000.c - the 82540EM at register level: registers, EEPROM, PHY, rings, offloads, filters, interrupts, hostile rings.
 *
 * Expected values are those of the software developer's manual (317453), RFC 791/793/1071 and what Linux's ethtool self test checks. The
 * machine has no CPU: the test is the guest. Its other end is a port that keeps the frames it gets. Time is moved by hand.
 */
#include "machine.h"
#include "dev/dev.h"
#include "net/net.h"
#include "test.h"

enum {
    CTRL = 0, STATUS = 8, EECD = 0x10, EERD = 0x14, MDIC = 0x20, FCAL = 0x28, FCAH = 0x2C, FCT = 0x30, VET = 0x38, ICR = 0xC0, ITR = 0xC4, ICS = 0xC8, IMS = 0xD0,
    IMC = 0xD8, RCTL = 0x100, FCTTV = 0x170, TXCW = 0x178, TCTL = 0x400, TIPG = 0x410, FCRTH = 0x2168, RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808, RDH = 0x2810,
    RDT = 0x2818, RDTR = 0x2820, RADV = 0x282C, TDBAL = 0x3800, TDBAH = 0x3804, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, TIDV = 0x3820, TADV = 0x382C,
    WUC = 0x5800, WUS = 0x5810, PRC64 = 0x405C, BPRC = 0x4078, MPRC = 0x407C, TPR = 0x40D0, TPT = 0x40D4,
    GPRC = 0x4074, GPTC = 0x4080, GORCL = 0x4088, GORCH = 0x408C, RXCSUM = 0x5000, MTA = 0x5200, RA = 0x5400, VFTA = 0x5600,
    BAR = 0x10000000, TX_RING = 0x1000, RX_RING = 0x2000, TX_BUF = 0x10000, RX_BUF = 0x80000, RX_N = 64, TX_N = 64
};

struct machine {
    struct emu emu;
    struct net_port wire;
    struct irq pirq[4];
    int level;
    unsigned rises;
    /* what the wire got */
    unsigned frames;
    uint8_t last[70000];
    size_t last_size;
    struct net_frame last_frame;
    bool full;
    unsigned refusals; /* frames it will not take though it said it could */
    unsigned kicks;
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

static void pirq_set(void *opaque, int line, int level)
{
    struct machine *m = opaque;
    (void)line;
    if (level && !m->level)
        m->rises++;
    m->level = level;
}

static bool wire_can_receive(struct net_port *p) { return !((struct machine *)p->opaque)->full; }
static int wire_receive(struct net_port *p, const struct net_frame *f)
{
    struct machine *m = p->opaque;
    if (m->full)
        return 0;
    if (m->refusals) {
        m->refusals--;
        return 0;
    }
    m->frames++;
    m->last_frame = *f;
    m->last_size = net_frame_copy(f, 0, m->last, sizeof m->last);
    return 1;
}
static void wire_kick(struct net_port *p) { ((struct machine *)p->opaque)->kicks++; }

static void wr(struct machine *m, unsigned reg, uint32_t v) { mem_st(&m->emu, BAR + (uint64_t)reg, v, 4); }
static uint32_t rd(struct machine *m, unsigned reg) { return (uint32_t)mem_ld(&m->emu, BAR + (uint64_t)reg, 4); }

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

static void pci_write(struct machine *m, unsigned reg, uint32_t v)
{
    port_write(&m->emu, 0xCF8, 0x80000000u | 3 << 11 | reg, 4);
    port_write(&m->emu, 0xCFC, v, 4);
}
static uint32_t pci_read(struct machine *m, unsigned reg)
{
    port_write(&m->emu, 0xCF8, 0x80000000u | 3 << 11 | reg, 4);
    return (uint32_t)port_read(&m->emu, 0xCFC, 4);
}

static struct machine *machine_new(void)
{
    struct machine *m = calloc(1, sizeof *m);
    struct emu *e = &m->emu;
    struct options o;
    struct err err;
    unsigned i;
    e->alloc_fn = fake_alloc;
    e->config.icount = true;
    e->wake_read = e->wake_write = HOST_FD_NONE;
    clock_create(e);
    memory_create(e, NULL);
    e->ram = ram_block_create(e, "ram", 4 * MIB, false, NULL);
    region_init_ram(&e->ram_low, "ram", e->ram, 0, 4 * MIB);
    region_add(e, &e->memory, &e->ram_low, 0, MAP_PRIO_RAM);
    chipset_get(e);
    pci_bus_create(e, NULL);
    for (i = 0; i < 4; i++) {
        e->pci->intx[i].set = pirq_set;
        e->pci->intx[i].opaque = m;
    }
    snprintf(m->wire.name, sizeof m->wire.name, "wire");
    m->wire.opaque = m;
    m->wire.takes_gso = m->wire.takes_csum = true;
    m->wire.can_receive = wire_can_receive;
    m->wire.receive = wire_receive;
    m->wire.kick = wire_kick;
    net_port_register(e, &m->wire);
    options_parse(&o, e, "e1000", "netdev=wire,mac=52:54:00:12:34:56,addr=03", NULL, &err);
    if (!device_create(e, "e1000", NULL, &o, &err))
        printf("%s\n", err.text);
    options_free(&o);
    e->devices->cls->reset(e->devices);
    pci_write(m, 0x10, BAR);
    pci_write(m, 0x14, 0xC001);
    pci_write(m, 0x04, 7);
    return m;
}

static void machine_free(struct machine *m)
{
    struct emu *e = &m->emu;
    while (e->devices)
        device_destroy(e->devices);
    net_port_unregister(e, &m->wire);
    pci_bus_destroy(e);
    chipset_free(e);
    memory_destroy(e);
    clock_destroy(e);
    free(m);
}

/* Rings as a driver sets them up; RX_N - 1 buffers of 2 KiB. */
static void rings(struct machine *m)
{
    unsigned i;
    for (i = 0; i < RX_N; i++) {
        mem_st(&m->emu, RX_RING + i * 16, RX_BUF + i * 2048, 8);
        mem_st(&m->emu, RX_RING + i * 16 + 8, 0, 8);
    }
    wr(m, RDBAL, RX_RING), wr(m, RDBAH, 0), wr(m, RDLEN, RX_N * 16), wr(m, RDH, 0), wr(m, RDT, RX_N - 1);
    wr(m, TDBAL, TX_RING), wr(m, TDBAH, 0), wr(m, TDLEN, TX_N * 16), wr(m, TDH, 0), wr(m, TDT, 0);
    wr(m, RCTL, 0x04008002); /* EN, BAM, SECRC, 2 KiB */
    wr(m, TCTL, 0x000400FA);
}

static void tx(struct machine *m, unsigned i, uint64_t at, uint32_t low, uint32_t high)
{
    mem_st(&m->emu, TX_RING + i * 16, at, 8);
    mem_st(&m->emu, TX_RING + i * 16 + 8, low, 4);
    mem_st(&m->emu, TX_RING + i * 16 + 12, high, 4);
}

static void frame_for_us(uint8_t *f, size_t size)
{
    static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
    size_t i;
    for (i = 0; i < size; i++)
        f[i] = (uint8_t)i;
    memcpy(f, mac, 6);
    st16be(f + 12, 0x88B5); /* experimental ethertype */
}

static int give_flags(struct machine *m, uint8_t *bytes, size_t size, bool vouched)
{
    struct host_iov piece;
    struct net_frame f;
    memset(&f, 0, sizeof f);
    piece.base = bytes;
    piece.size = size;
    f.pieces = &piece;
    f.count = 1;
    f.size = size;
    f.csum_valid = vouched;
    return net_send(&m->wire, &f);
}
static int give(struct machine *m, uint8_t *bytes, size_t size) { return give_flags(m, bytes, size, false); }

static uint64_t rx_info(struct machine *m, unsigned i) { return mem_ld(&m->emu, RX_RING + i * 16 + 8, 8); }

/* An IPv4 TCP frame with right checksums. */
static size_t tcp_frame(uint8_t *f, size_t payload)
{
    uint32_t sum;
    frame_for_us(f, 54 + payload);
    st16be(f + 12, 0x0800);
    f[14] = 0x45, f[15] = 0;
    st16be(f + 16, (uint16_t)(40 + payload));
    st16be(f + 18, 7), st16be(f + 20, 0x4000);
    f[22] = 64, f[23] = 6;
    st16be(f + 24, 0);
    st32be(f + 26, 0x0A000202), st32be(f + 30, 0x0A00020F);
    st16be(f + 24, net_checksum(f + 14, 20, 0));
    st16be(f + 34, 80), st16be(f + 36, 1024), st32be(f + 38, 1000), st32be(f + 42, 2000);
    f[46] = 0x50, f[47] = 0x18;
    st16be(f + 48, 512), st16be(f + 50, 0), st16be(f + 52, 0);
    sum = net_checksum_add(f + 26, 8, 6 + (uint32_t)(20 + payload));
    st16be(f + 50, net_checksum(f + 34, 20 + payload, net_checksum_fold(sum)));
    return 54 + payload;
}

/* ---- tests ---- */

TEST(e1000_pci_header)
{
    struct machine *m = machine_new();
    CHECK_EQ(pci_read(m, 0), 0x100E8086);
    CHECK_EQ(pci_read(m, 8) >> 8, 0x020000);
    CHECK_EQ(pci_read(m, 0x3C) >> 8 & 0xFF, 1);
    pci_write(m, 0x10, 0xFFFFFFFF);
    CHECK_EQ(pci_read(m, 0x10), 0xFFFE0000); /* 128 KiB of memory */
    machine_free(m);
}

/* The register test of ethtool: bits that must keep any pattern, and bits that must read zero. */
TEST(e1000_registers_hold_what_the_self_test_writes)
{
    static const struct { unsigned reg; uint32_t mask, write; } rows[] = {
        { FCAL, 0xFFFFFFFF, 0xFFFFFFFF }, { FCAH, 0xFFFF, 0xFFFFFFFF }, { FCT, 0xFFFF, 0xFFFFFFFF }, { VET, 0xFFFF, 0xFFFFFFFF }, { RDTR, 0xFFFF, 0xFFFFFFFF },
        { RDBAH, 0xFFFFFFFF, 0xFFFFFFFF }, { RDLEN, 0x000FFF80, 0x000FFFFF }, { RDH, 0xFFFF, 0xFFFF }, { RDT, 0xFFFF, 0xFFFF }, { FCRTH, 0xFFF8, 0xFFF8 },
        { FCTTV, 0xFFFF, 0xFFFF }, { TIPG, 0x3FFFFFFF, 0x3FFFFFFF }, { TDBAH, 0xFFFFFFFF, 0xFFFFFFFF }, { TDLEN, 0x000FFF80, 0x000FFFFF },
        { RDBAL, 0xFFFFFFF0, 0xFFFFFFFF }, { TXCW, 0xC000FFFF, 0x0000FFFF }, { TDBAL, 0xFFFFFFF0, 0xFFFFFFFF }, { TIDV, 0xFFFF, 0xFFFF },
    };
    static const uint32_t patterns[] = { 0x5A5A5A5A, 0xA5A5A5A5, 0, 0xFFFFFFFF };
    struct machine *m = machine_new();
    uint32_t status = rd(m, STATUS);
    unsigned i, k;
    wr(m, STATUS, ~status);
    CHECK_EQ(rd(m, STATUS), status);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (k = 0; k < 4; k++) {
            wr(m, rows[i].reg, rows[i].write & patterns[k]);
            CHECK_EQ(rd(m, rows[i].reg), rows[i].write & patterns[k] & rows[i].mask);
        }
    for (i = 0; i < 16; i++)
        for (k = 0; k < 4; k++) {
            wr(m, RA + i * 8 + 4, patterns[k]);
            CHECK_EQ(rd(m, RA + i * 8 + 4), patterns[k] & 0x8003FFFF);
        }
    for (i = 0; i < 128; i++) {
        wr(m, MTA + i * 4, 0xA5A5A5A5);
        CHECK_EQ(rd(m, MTA + i * 4), 0xA5A5A5A5);
    }
    wr(m, RCTL, 0);
    CHECK_EQ(rd(m, RCTL), 0);
    wr(m, RCTL, 0xFFFFFFFF);
    CHECK_EQ(rd(m, RCTL) & 0x06DFB3FE, 0x06DFB3FE);
    wr(m, TCTL, 0);
    CHECK_EQ(rd(m, TCTL), 0);
    machine_free(m);
}

static unsigned microwire_read(struct machine *m, unsigned word)
{
    unsigned command = 6u << 6 | word, i, v = 0;
    wr(m, EECD, 0x40);
    wr(m, EECD, 0x42);
    for (i = 9; i--;) {
        uint32_t di = command >> i & 1 ? 4 : 0;
        wr(m, EECD, 0x42 | di), wr(m, EECD, 0x43 | di), wr(m, EECD, 0x42 | di);
    }
    for (i = 0; i < 16; i++) {
        wr(m, EECD, 0x43);
        v = v << 1 | (rd(m, EECD) >> 3 & 1);
        wr(m, EECD, 0x42);
    }
    wr(m, EECD, 0x40);
    wr(m, EECD, 0);
    return v;
}

TEST(e1000_eeprom_holds_address_and_checksum)
{
    struct machine *m = machine_new();
    unsigned i, sum = 0, sum2 = 0;
    for (i = 0; i < 64; i++) {
        wr(m, EERD, i << 8 | 1);
        CHECK(rd(m, EERD) & 0x10);
        sum += rd(m, EERD) >> 16;
        sum2 += microwire_read(m, i);
        CHECK_EQ(sum, sum2);
    }
    CHECK_EQ(sum & 0xFFFF, 0xBABA);
    CHECK_EQ(microwire_read(m, 0), 0x5452);
    CHECK_EQ(microwire_read(m, 2), 0x5634);
    CHECK_EQ(rd(m, RA), 0x12005452);
    CHECK_EQ(rd(m, RA + 4), 0x80005634);
    wr(m, EECD, 0x40);
    CHECK(rd(m, EECD) & 0x80); /* granted */
    machine_free(m);
}

static unsigned phy(struct machine *m, unsigned reg)
{
    wr(m, MDIC, 2u << 26 | 1 << 21 | reg << 16);
    return rd(m, MDIC) & 0x10000000 ? rd(m, MDIC) & 0xFFFF : 0xDEAD0000;
}

TEST(e1000_phy_and_link)
{
    struct machine *m = machine_new();
    CHECK_EQ(phy(m, 2), 0x0141);
    CHECK_EQ(phy(m, 3) & 0xFFF0, 0x0C20);
    CHECK_EQ(phy(m, 1) & 0x24, 0x24);
    CHECK_EQ(rd(m, STATUS) & 0xC3, 0x83); /* 1000 Mbit/s, full duplex, link */
    rd(m, ICR);
    wr(m, IMS, 4);
    net_set_link(&m->wire, false);
    CHECK_EQ(m->level, 1);
    CHECK_EQ(rd(m, ICR) & 4, 4);
    CHECK_EQ(m->level, 0);
    CHECK_EQ(rd(m, STATUS) & 2, 0);
    CHECK_EQ(phy(m, 1) & 0x24, 0);
    net_set_link(&m->wire, true);
    CHECK_EQ(rd(m, STATUS) & 2, 2);
    wr(m, MDIC, 2u << 26 | 2 << 21 | 2 << 16); /* there is no PHY 2 */
    CHECK(rd(m, MDIC) & 0x40000000);
    machine_free(m);
}

TEST(e1000_interrupt_cause_and_mask)
{
    struct machine *m = machine_new();
    wr(m, IMC, 0xFFFFFFFF);
    wr(m, ICS, 0x10);
    CHECK_EQ(m->level, 0);
    wr(m, IMS, 0x10);
    CHECK_EQ(m->level, 1);
    CHECK_EQ(rd(m, ICR) & 0x10, 0x10);
    CHECK_EQ(m->level, 0);
    CHECK_EQ(rd(m, ICR), 0);
    CHECK_EQ(rd(m, IMS), 0x10);
    wr(m, ICS, 0x14);
    wr(m, ICR, 0x10); /* writing one clears */
    CHECK_EQ(m->level, 0);
    CHECK_EQ(rd(m, ICR), 4);
    machine_free(m);
}

/* §13.4.18: units of 256 ns between two assertions. */
TEST(e1000_itr_spaces_interrupts)
{
    struct machine *m = machine_new();
    wr(m, ITR, 1000);
    wr(m, IMS, 0x1);
    wr(m, ICS, 1);
    CHECK_EQ(m->rises, 1);
    rd(m, ICR);
    wr(m, ICS, 1);
    CHECK_EQ(m->rises, 1);
    wait_ns(m, 200000);
    CHECK_EQ(m->rises, 1);
    wait_ns(m, 60000);
    CHECK_EQ(m->rises, 2);
    machine_free(m);
}

TEST(e1000_sends_and_reports)
{
    struct machine *m = machine_new();
    uint8_t f[100];
    rings(m);
    frame_for_us(f, sizeof f);
    mem_write(&m->emu, TX_BUF, f, 40);
    mem_write(&m->emu, TX_BUF + 5000, f + 40, 60);
    tx(m, 0, TX_BUF, 0x02000000 | 40, 0);
    tx(m, 1, TX_BUF + 5000, 0x0B000000 | 60, 0); /* EOP, IFCS, RS */
    wr(m, IMS, 1);
    wr(m, TDT, 1);
    CHECK_EQ(m->frames, 0);
    CHECK_EQ(rd(m, TDH), 1);
    wr(m, TDT, 2);
    CHECK_EQ(m->frames, 1);
    CHECK_EQ(m->last_size, 100);
    CHECK(!memcmp(m->last, f, 100));
    CHECK_EQ(mem_ld(&m->emu, TX_RING + 28, 1) & 1, 1);
    CHECK_EQ(mem_ld(&m->emu, TX_RING + 12, 1) & 1, 0); /* no RS there */
    CHECK_EQ(m->level, 1);
    CHECK_EQ(rd(m, ICR) & 1, 1);
    CHECK_EQ(rd(m, GPTC), 1);
    CHECK_EQ(rd(m, GPTC), 0); /* read clears */
    machine_free(m);
}

TEST(e1000_pads_short_packets)
{
    struct machine *m = machine_new();
    uint8_t f[42];
    rings(m);
    frame_for_us(f, sizeof f);
    mem_write(&m->emu, TX_BUF, f, sizeof f);
    tx(m, 0, TX_BUF, 0x0B000000 | 42, 0);
    wr(m, TDT, 1);
    CHECK_EQ(m->last_size, 60);
    CHECK(!memcmp(m->last, f, 42) && !m->last[42] && !m->last[59]);
    machine_free(m);
}

TEST(e1000_tx_interrupt_is_delayed)
{
    struct machine *m = machine_new();
    uint8_t f[64];
    rings(m);
    frame_for_us(f, sizeof f);
    mem_write(&m->emu, TX_BUF, f, sizeof f);
    wr(m, TIDV, 100);
    wr(m, TADV, 150);
    wr(m, IMS, 1);
    tx(m, 0, TX_BUF, 0x8B000000u | 64, 0);
    tx(m, 1, TX_BUF, 0x8B000000u | 64, 0);
    wr(m, TDT, 1);
    CHECK_EQ(m->level, 0);
    wait_ns(m, 90 * 1024);
    wr(m, TDT, 2); /* starts the delay anew, but not the absolute one */
    wait_ns(m, 50 * 1024);
    CHECK_EQ(m->level, 0);
    wait_ns(m, 15 * 1024);
    CHECK_EQ(m->level, 1);
    machine_free(m);
}

TEST(e1000_waits_for_a_full_peer)
{
    struct machine *m = machine_new();
    uint8_t f[64];
    rings(m);
    frame_for_us(f, sizeof f);
    mem_write(&m->emu, TX_BUF, f, sizeof f);
    tx(m, 0, TX_BUF, 0x02000000 | 32, 0);
    tx(m, 1, TX_BUF + 32, 0x0B000000 | 32, 0);
    m->full = true;
    wr(m, TDT, 2);
    CHECK_EQ(m->frames, 0);
    CHECK_EQ(rd(m, TDH), 1);
    m->full = false;
    net_kick_peer(&m->wire);
    CHECK_EQ(m->frames, 1);
    CHECK_EQ(rd(m, TDH), 2);
    CHECK(!memcmp(m->last, f, 64) && m->last_size == 64);
    machine_free(m);
}

/* §3.3.6, §3.5: one context descriptor, headers and payload; leaves as one super-frame with headers as for one large packet. */
TEST(e1000_tso_is_taken_whole)
{
    struct machine *m = machine_new();
    static uint8_t f[54 + 4000];
    uint32_t pseudo;
    size_t size = tcp_frame(f, 4000);
    rings(m);
    st16be(f + 16, 0);
    st16be(f + 24, 0);
    pseudo = net_checksum_fold(net_checksum_add(f + 26, 8, 6));
    st16be(f + 50, (uint16_t)pseudo); /* without the length, as TSO wants it */
    mem_write(&m->emu, TX_BUF, f, size);
    mem_st(&m->emu, TX_RING, 14 | 24 << 8 | (uint64_t)33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40, 8);
    mem_st(&m->emu, TX_RING + 8, 4000 | 0u << 20 | 0x27u << 24, 4); /* DEXT, TSE, IP, TCP */
    mem_st(&m->emu, TX_RING + 12, 54 << 8 | 1000u << 16, 4);
    tx(m, 1, TX_BUF, 54 | 1 << 20 | 0x26u << 24, 3 << 8);
    tx(m, 2, TX_BUF + 54, 4000 | 1 << 20 | 0x2Fu << 24, 3 << 8);
    wr(m, TDT, 3);
    CHECK_EQ(m->frames, 1);
    CHECK_EQ(m->last_size, size);
    CHECK_EQ(m->last_frame.gso, NET_GSO_TCP4);
    CHECK_EQ(m->last_frame.gso_size, 1000);
    CHECK_EQ(m->last_frame.header_bytes, 54);
    CHECK_EQ(m->last_frame.needs_csum, 1);
    CHECK_EQ(m->last_frame.csum_start, 34);
    CHECK_EQ(m->last_frame.csum_offset, 16);
    CHECK_EQ(ld16be(m->last + 16), 4040);
    CHECK_EQ(net_checksum(m->last + 14, 20, 0), 0);
    /* the whole, summed from csum_start with what the field holds, gives a right checksum */
    st16be(m->last + 50, net_checksum(m->last + 34, size - 34, 0));
    CHECK_EQ(net_checksum(m->last + 34, size - 34, net_checksum_fold(net_checksum_add(m->last + 26, 8, 6 + 4020))), 0);
    CHECK(!memcmp(m->last + 54, f + 54, 4000));
    CHECK_EQ(rd(m, GPTC), 4);
    machine_free(m);
}

/* A packet in many pieces that is refused once leaves as it would have at first: its pseudo-header sum has the length once, its tag is in one place. */
TEST(e1000_refused_packet_of_many_descriptors_is_the_same_later)
{
    struct machine *m = machine_new();
    static uint8_t f[54 + 61 * 40];
    uint32_t pseudo;
    unsigned i;
    size_t size = tcp_frame(f, 61 * 40);
    rings(m);
    wr(m, CTRL, rd(m, CTRL) | 0x40000000); /* VME */
    st16be(f + 16, 0);
    st16be(f + 24, 0);
    pseudo = net_checksum_fold(net_checksum_add(f + 26, 8, 6));
    st16be(f + 50, (uint16_t)pseudo);
    mem_write(&m->emu, TX_BUF, f, size);
    mem_st(&m->emu, TX_RING, 14 | 24 << 8 | (uint64_t)33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40, 8);
    mem_st(&m->emu, TX_RING + 8, (61 * 40) | 0u << 20 | 0x27u << 24, 4);
    mem_st(&m->emu, TX_RING + 12, 54 << 8 | 1000u << 16, 4);
    tx(m, 1, TX_BUF, 54 | 1 << 20 | 0x66u << 24, 0x2005u << 16 | 3 << 8); /* with VLE */
    for (i = 0; i < 61; i++)
        tx(m, 2 + i, TX_BUF + 54 + i * 40, 40 | 1 << 20 | (i == 60 ? 0x6Fu : 0x66u) << 24, 0x2005u << 16 | 3 << 8);
    m->refusals = 2;
    wr(m, TDT, 63);
    for (i = 0; i < 5 && !m->frames; i++)
        net_kick_peer(&m->wire);
    CHECK_EQ(m->refusals, 0);
    CHECK_EQ(m->frames, 1);
    CHECK_EQ(m->last_size, size + 4);
    CHECK(!memcmp(m->last, f, 12));
    CHECK_EQ(ld32be(m->last + 12), 0x81002005);
    CHECK_EQ(ld16be(m->last + 16), 0x0800);
    CHECK_EQ(ld16be(m->last + 54), net_checksum_fold(pseudo + 20 + 61 * 40));
    CHECK(!memcmp(m->last + 58, f + 54, 61 * 40));
    machine_free(m);
}

TEST(e1000_tso_to_a_plain_peer_gives_right_segments)
{
    struct machine *m = machine_new();
    static uint8_t f[54 + 2500];
    size_t size = tcp_frame(f, 2500);
    rings(m);
    m->wire.takes_gso = m->wire.takes_csum = false;
    st16be(f + 50, net_checksum_fold(net_checksum_add(f + 26, 8, 6)));
    mem_write(&m->emu, TX_BUF, f, size);
    mem_st(&m->emu, TX_RING, 14 | 24 << 8 | (uint64_t)33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40, 8);
    mem_st(&m->emu, TX_RING + 8, 2500 | 0u << 20 | 0x27u << 24, 4);
    mem_st(&m->emu, TX_RING + 12, 54 << 8 | 1000u << 16, 4);
    tx(m, 1, TX_BUF, (uint32_t)size | 1 << 20 | 0x2Fu << 24, 3 << 8);
    wr(m, TDT, 2);
    CHECK_EQ(m->frames, 3);
    CHECK_EQ(m->last_size, 554);
    CHECK_EQ(ld16be(m->last + 16), 540);
    CHECK_EQ(ld32be(m->last + 38), 3000);
    CHECK_EQ(net_checksum(m->last + 14, 20, 0), 0);
    CHECK_EQ(net_checksum(m->last + 34, 520, net_checksum_fold(net_checksum_add(m->last + 26, 8, 6 + 520))), 0);
    machine_free(m);
}

/* Padding is no payload: of a frame below 60 bytes only one that is not cut gets it, behind what the headers count. */
TEST(e1000_tso_of_short_packets)
{
    unsigned mss, plain;
    for (mss = 2; mss <= 1000; mss += 998)
        for (plain = 0; plain < 2; plain++) {
            struct machine *m = machine_new();
            uint8_t f[58];
            size_t size = tcp_frame(f, 4);
            bool cut = mss < 4;
            rings(m);
            m->wire.takes_gso = m->wire.takes_csum = !plain;
            st16be(f + 50, net_checksum_fold(net_checksum_add(f + 26, 8, 6)));
            mem_write(&m->emu, TX_BUF, f, size);
            mem_st(&m->emu, TX_RING, 14 | 24 << 8 | (uint64_t)33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40, 8);
            mem_st(&m->emu, TX_RING + 8, 4 | 0u << 20 | 0x27u << 24, 4);
            mem_st(&m->emu, TX_RING + 12, 54 << 8 | mss << 16, 4);
            tx(m, 1, TX_BUF, (uint32_t)size | 1 << 20 | 0x2Fu << 24, 3 << 8);
            wr(m, TDT, 2);
            CHECK_EQ(m->frames, cut && plain ? 2 : 1);
            CHECK_EQ(ld16be(m->last + 16), cut && plain ? 42 : 44);
            CHECK_EQ(net_checksum(m->last + 14, 20, 0), 0);
            if (!cut) {
                CHECK_EQ(m->last_size, 60);
                CHECK(!m->last[58] && !m->last[59]);
                CHECK(!memcmp(m->last + 54, f + 54, 4));
                CHECK_EQ(m->last_frame.gso, NET_GSO_NONE);
            } else if (!plain) {
                CHECK_EQ(m->last_size, 58);
                CHECK_EQ(m->last_frame.gso, NET_GSO_TCP4);
            } else {
                CHECK_EQ(ld32be(m->last + 38), 1002);
                CHECK(!memcmp(m->last + 54, f + 56, 2));
            }
            if (plain) {
                unsigned n = ld16be(m->last + 16) - 20;
                CHECK_EQ(net_checksum(m->last + 34, n, net_checksum_fold(net_checksum_add(m->last + 26, 8, 6 + n))), 0);
            }
            machine_free(m);
        }
}

TEST(e1000_inserts_and_strips_vlan_tags)
{
    struct machine *m = machine_new();
    uint8_t f[80];
    rings(m);
    wr(m, CTRL, rd(m, CTRL) | 0x40000000);
    frame_for_us(f, sizeof f);
    mem_write(&m->emu, TX_BUF, f, sizeof f);
    tx(m, 0, TX_BUF, 0x4B000000 | 80, 0x2005u << 16);
    wr(m, TDT, 1);
    CHECK_EQ(m->last_size, 84);
    CHECK_EQ(ld32be(m->last + 12), 0x81002005);
    CHECK(!memcmp(m->last, f, 12) && !memcmp(m->last + 16, f + 12, 68));
    memcpy(m->last, f, 6);
    CHECK_EQ(give(m, m->last, 84), 1);
    CHECK_EQ(rx_info(m, 0) & 0xFFFF, 80);
    CHECK_EQ(rx_info(m, 0) >> 32 & 0x0B, 0x0B); /* DD, EOP, VP */
    CHECK_EQ(rx_info(m, 0) >> 48, 0x2005);
    CHECK_EQ(mem_ld(&m->emu, RX_BUF + 12, 2), ld16le(f + 12));
    /* the VLAN filter lets through what the table has */
    wr(m, RCTL, rd(m, RCTL) | 1 << 18);
    CHECK_EQ(give(m, m->last, 84), 1);
    CHECK_EQ(rd(m, RDH), 1);
    wr(m, VFTA, 1 << 5);
    CHECK_EQ(give(m, m->last, 84), 1);
    CHECK_EQ(rd(m, RDH), 2);
    machine_free(m);
}

/* Only CTRL.VME takes the tag off, however short the frame is. */
TEST(e1000_keeps_the_tag_of_short_frames)
{
    struct machine *m = machine_new();
    uint8_t f[50], got[60];
    rings(m);
    frame_for_us(f, sizeof f);
    st32be(f + 12, 0x81002005);
    CHECK_EQ(give(m, f, sizeof f), 1);
    CHECK_EQ(rx_info(m, 0) & 0xFFFF, 60);
    CHECK_EQ(rx_info(m, 0) >> 32 & 0x0B, 3); /* DD, EOP; no VP */
    CHECK_EQ(rx_info(m, 0) >> 48, 0);
    mem_read(&m->emu, RX_BUF, got, sizeof got);
    CHECK(!memcmp(got, f, 50) && !got[50] && !got[59]);
    wr(m, CTRL, rd(m, CTRL) | 0x40000000);
    CHECK_EQ(give(m, f, sizeof f), 1);
    CHECK_EQ(rx_info(m, 1) & 0xFFFF, 56);
    CHECK_EQ(rx_info(m, 1) >> 48, 0x2005);
    machine_free(m);
}

TEST(e1000_receives_into_descriptors)
{
    struct machine *m = machine_new();
    uint8_t f[600], got[600];
    rings(m);
    wr(m, IMS, 0x80);
    frame_for_us(f, sizeof f);
    CHECK_EQ(give(m, f, sizeof f), 1);
    CHECK_EQ(rd(m, RDH), 1);
    CHECK_EQ(rx_info(m, 0) & 0xFFFF, 600);
    CHECK_EQ(rx_info(m, 0) >> 32 & 0x83, 3);
    mem_read(&m->emu, RX_BUF, got, sizeof got);
    CHECK(!memcmp(got, f, sizeof f));
    CHECK_EQ(m->level, 1);
    CHECK_EQ(rd(m, ICR) & 0x80, 0x80);
    CHECK_EQ(rd(m, GPRC), 1);
    CHECK_EQ(rd(m, GORCL), 604);
    CHECK_EQ(rd(m, GORCH), 0);
    wr(m, RCTL, rd(m, RCTL) & ~0x04000000u); /* with FCS */
    CHECK_EQ(give(m, f, 42), 1);
    CHECK_EQ(rx_info(m, 1) & 0xFFFF, 64); /* padded */
    machine_free(m);
}

TEST(e1000_filters_addresses)
{
    struct machine *m = machine_new();
    uint8_t f[60];
    rings(m);
    frame_for_us(f, 60);
    f[5] = 0x57;
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 0);
    wr(m, RA + 8, 0x12005452), wr(m, RA + 12, 0x80005734); /* a second address */
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 1);
    CHECK_EQ(rx_info(m, 0) >> 32 & 0x80, 0);
    f[5] = 0x58;
    wr(m, RCTL, rd(m, RCTL) | 8); /* UPE */
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 2);
    CHECK_EQ(rx_info(m, 1) >> 32 & 0x80, 0x80); /* passed in inexact filter */
    wr(m, RCTL, 0x04000002);                     /* no broadcast */
    memset(f, 0xFF, 6);
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 2);
    wr(m, RCTL, 0x04008002);
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 3);
    /* 01:00:5e:00:00:fb with MO = 0: bits 47:36 of the address are FB0h >> ... = 0xFB0 */
    f[0] = 1, f[1] = 0, f[2] = 0x5E, f[3] = 0, f[4] = 0, f[5] = 0xFB;
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 3);
    wr(m, MTA + 4 * (0xFB0 / 32), 1u << (0xFB0 % 32));
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 4);
    machine_free(m);
}

TEST(e1000_rx_checksum_flags)
{
    struct machine *m = machine_new();
    uint8_t f[400];
    size_t size = tcp_frame(f, 301);
    rings(m);
    wr(m, RXCSUM, 0x300);
    give(m, f, size);
    CHECK_EQ(rx_info(m, 0) >> 32 & 0x64, 0x60); /* IPCS, TCPCS, not IXSM */
    CHECK_EQ(rx_info(m, 0) >> 40 & 0xFF, 0);
    f[100] ^= 1;
    give(m, f, size);
    CHECK_EQ(rx_info(m, 1) >> 40 & 0xFF, 0x20); /* TCPE */
    f[100] ^= 1, f[22] ^= 1;
    give(m, f, size);
    CHECK_EQ(rx_info(m, 2) >> 40 & 0xFF, 0x40); /* IPE; the TTL is not in the pseudo header */
    wr(m, RXCSUM, 0);
    give(m, f, size);
    CHECK_EQ(rx_info(m, 3) >> 32 & 0x64, 4);
    machine_free(m);
}

TEST(e1000_long_packets_need_lpe_and_take_several_descriptors)
{
    struct machine *m = machine_new();
    static uint8_t f[9014], got[9014];
    unsigned i;
    rings(m);
    frame_for_us(f, sizeof f);
    give(m, f, sizeof f);
    CHECK_EQ(rd(m, RDH), 0);
    give(m, f, 1518);
    CHECK_EQ(rd(m, RDH), 1);
    wr(m, RCTL, rd(m, RCTL) | 0x20);
    give(m, f, sizeof f);
    CHECK_EQ(rd(m, RDH), 6);
    for (i = 0; i < 5; i++) {
        CHECK_EQ(rx_info(m, 1 + i) & 0xFFFF, i < 4 ? 2048 : 9014 - 4 * 2048);
        CHECK_EQ(rx_info(m, 1 + i) >> 32 & 3, i < 4 ? 1 : 3);
    }
    mem_read(&m->emu, RX_BUF + 2048, got, sizeof got);
    CHECK(!memcmp(got, f, sizeof f));
    machine_free(m);
}

TEST(e1000_full_ring_makes_the_sender_wait)
{
    struct machine *m = machine_new();
    uint8_t f[60];
    unsigned i;
    rings(m);
    frame_for_us(f, 60);
    for (i = 0; i < RX_N - 1; i++)
        CHECK_EQ(give(m, f, 60), 1);
    CHECK_EQ(give(m, f, 60), 0);
    CHECK_EQ(rd(m, ICR) & 0x10, 0x10); /* RXDMT0 came on the way */
    CHECK_EQ(m->kicks, 0);
    wr(m, RDT, 5);
    CHECK_EQ(m->kicks, 1);
    CHECK_EQ(give(m, f, 60), 1);
    wr(m, RCTL, 0); /* switched off: dropped */
    CHECK_EQ(give(m, f, 60), 1);
    machine_free(m);
}

/* A super-frame toward the guest: cut, one interrupt, nothing lost when the ring is too short for it. */
TEST(e1000_super_frame_in_is_cut_and_the_rest_waits)
{
    struct machine *m = machine_new();
    static uint8_t f[54 + 60000], got[2048];
    struct host_iov piece;
    struct net_frame gso;
    size_t size = tcp_frame(f, 60000);
    unsigned i;
    uint32_t seq = 1000;
    rings(m);
    wr(m, RXCSUM, 0x300);
    wr(m, RDT, 10);
    memset(&gso, 0, sizeof gso);
    piece.base = f;
    piece.size = size;
    gso.pieces = &piece;
    gso.count = 1;
    gso.size = size;
    gso.gso = NET_GSO_TCP4;
    gso.gso_size = 1460;
    gso.header_bytes = 54;
    gso.csum_start = 34;
    gso.csum_offset = 16;
    gso.needs_csum = true;
    wr(m, IMS, 0x80);
    CHECK_EQ(net_send(&m->wire, &gso), 1);
    CHECK_EQ(rd(m, RDH), 10);
    CHECK_EQ(m->rises, 1);
    CHECK_EQ(net_can_send(&m->wire), 0);
    CHECK_EQ(m->kicks, 0);
    wr(m, RDT, 63);
    CHECK_EQ(rd(m, RDH), 42); /* ceil(60000 / 1460) */
    CHECK_EQ(m->kicks, 1);
    for (i = 0; i < 42; i++) {
        size_t n = (size_t)(rx_info(m, i) & 0xFFFF), payload = n - 54;
        mem_read(&m->emu, RX_BUF + i * 2048, got, n);
        CHECK_EQ(rx_info(m, i) >> 32 & 0x63, 0x63);
        CHECK_EQ(ld32be(got + 38), seq);
        CHECK_EQ(net_checksum(got + 34, n - 34, net_checksum_fold(net_checksum_add(got + 26, 8, 6 + (uint32_t)(20 + payload)))), 0);
        CHECK(!memcmp(got + 54, f + 54 + (seq - 1000), payload));
        seq += (uint32_t)payload;
    }
    CHECK_EQ(seq, 61000);
    machine_free(m);
}

/* §13.4.30, §13.4.31: RDTR counts from the last packet, RADV from the first of those not told yet, in units of 1.024 us; RDTR.FPD tells at once. */
TEST(e1000_rx_interrupt_is_delayed)
{
    struct machine *m = machine_new();
    uint8_t f[64];
    rings(m);
    frame_for_us(f, sizeof f);
    wr(m, RDTR, 100);
    wr(m, RADV, 150);
    wr(m, IMS, 0x80);
    CHECK_EQ(give(m, f, sizeof f), 1);
    wait_ns(m, 90 * 1024);
    CHECK_EQ(m->level, 0);
    CHECK_EQ(give(m, f, sizeof f), 1); /* the delay anew, not the absolute one */
    wait_ns(m, 50 * 1024);
    CHECK_EQ(m->level, 0);
    wait_ns(m, 15 * 1024);
    CHECK_EQ(m->level, 1);
    CHECK_EQ(rd(m, ICR) & 0x80, 0x80);
    CHECK_EQ(give(m, f, sizeof f), 1);
    wait_ns(m, 95 * 1024);
    CHECK_EQ(m->level, 0);
    wait_ns(m, 10 * 1024);
    CHECK_EQ(m->level, 1);
    rd(m, ICR);
    CHECK_EQ(give(m, f, sizeof f), 1);
    CHECK_EQ(m->level, 0);
    wr(m, RDTR, 0x80000000u | 100);
    CHECK_EQ(m->level, 1);
    machine_free(m);
}

/* §3.3.3: a legacy descriptor with IC asks for a sum from CSS on into CSO. §3.5: a context and POPTS ask for the IP header's and TCP's. */
TEST(e1000_inserts_checksums)
{
    struct machine *m = machine_new();
    static uint8_t f[54 + 301], want[54 + 301];
    unsigned how;
    size_t size = tcp_frame(want, 301);
    rings(m);
    for (how = 0; how < 4; how++) { /* legacy; IP and TCP by context; TCP with an end; the same to a peer that takes no open sums */
        unsigned at = how * 2;
        memcpy(f, want, size);
        st16be(f + 50, net_checksum_fold(net_checksum_add(f + 26, 8, 6 + 321))); /* the pseudo header's */
        if (how)
            st16be(f + 24, 0);
        m->wire.takes_csum = m->wire.takes_gso = how < 3;
        mem_write(&m->emu, TX_BUF, f, size);
        if (!how) {
            tx(m, at, TX_BUF, (uint32_t)size | 50 << 16 | 0x0Fu << 24, 34 << 8); /* CSO; EOP, IFCS, IC, RS; CSS */
            tx(m, at + 1, TX_BUF, 0x20u << 24, 0);
        } else {
            uint64_t end = how == 2 ? size - 1 : 0;
            mem_st(&m->emu, TX_RING + at * 16, 14 | 24 << 8 | (uint64_t)33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40 | end << 48, 8);
            mem_st(&m->emu, TX_RING + at * 16 + 8, (uint64_t)0x23 << 24, 8); /* DEXT, IP, TCP */
            tx(m, at + 1, TX_BUF, (uint32_t)size | 1 << 20 | 0x2Bu << 24, 3 << 8);
        }
        wr(m, TDT, at + 2);
        CHECK_EQ(m->frames, how + 1);
        CHECK_EQ(m->last_size, size);
        if (m->last_frame.needs_csum) { /* left open for who takes it further */
            CHECK(how && how < 3 && m->last_frame.csum_start == 34 && m->last_frame.csum_offset == 16);
            st16be(m->last + 50, net_checksum(m->last + 34, size - 34, 0));
        }
        CHECK(!memcmp(m->last, want, size));
    }
    machine_free(m);
}

/* §3.5.4 for IPv6: no IP checksum; the payload length is the hardware's. */
TEST(e1000_tso_of_ipv6)
{
    struct machine *m = machine_new();
    static uint8_t f[74 + 2500];
    unsigned i, plain;
    for (plain = 0; plain < 2; plain++) {
        memset(f, 0, sizeof f);
        frame_for_us(f, 14);
        st16be(f + 12, 0x86DD);
        f[14] = 0x60, f[20] = 6, f[21] = 64;
        f[22] = f[38] = 0xFE, f[23] = f[39] = 0x80, f[37] = 1, f[53] = 2;
        st16be(f + 54, 80), st16be(f + 56, 1024), st32be(f + 58, 1000);
        f[66] = 0x50, f[67] = 0x18;
        for (i = 74; i < sizeof f; i++)
            f[i] = (uint8_t)(i * 3);
        st16be(f + 70, net_checksum_fold(net_checksum_add(f + 22, 32, 6)));
        rings(m);
        m->frames = 0;
        m->wire.takes_gso = m->wire.takes_csum = !plain;
        mem_write(&m->emu, TX_BUF, f, sizeof f);
        mem_st(&m->emu, TX_RING, 14 | (uint64_t)54 << 32 | (uint64_t)70 << 40, 8);
        mem_st(&m->emu, TX_RING + 8, 2500 | 0x25u << 24, 4); /* DEXT, TSE, TCP, not IP */
        mem_st(&m->emu, TX_RING + 12, 74 << 8 | 1000u << 16, 4);
        tx(m, 1, TX_BUF, (uint32_t)sizeof f | 1 << 20 | 0x2Fu << 24, 2 << 8);
        wr(m, TDT, 2);
        CHECK_EQ(m->frames, plain ? 3 : 1);
        CHECK_EQ(m->last_size, plain ? 74 + 500 : sizeof f);
        CHECK_EQ(ld16be(m->last + 18), m->last_size - 54);
        if (plain) {
            CHECK_EQ(ld32be(m->last + 58), 3000);
            CHECK_EQ(net_checksum(m->last + 54, 520, net_checksum_fold(net_checksum_add(m->last + 22, 32, 6 + 520))), 0);
        } else {
            CHECK(m->last_frame.gso == NET_GSO_TCP6 && m->last_frame.gso_size == 1000 && m->last_frame.header_bytes == 74);
            st16be(m->last + 70, net_checksum(m->last + 54, sizeof f - 54, 0));
            CHECK_EQ(net_checksum(m->last + 54, sizeof f - 54, net_checksum_fold(net_checksum_add(m->last + 22, 32, 6 + sizeof f - 54))), 0);
        }
    }
    machine_free(m);
}

/* §13.4.22: RCTL.MO chooses which 12 bits of a multicast address the table is asked by; MPE takes all of them. */
TEST(e1000_multicast_offsets)
{
    struct machine *m = machine_new();
    uint8_t f[60];
    unsigned mo;
    rings(m);
    frame_for_us(f, 60);
    f[0] = 1, f[1] = 0, f[2] = 0x5E, f[3] = 0x12, f[4] = 0x34, f[5] = 0xFB;
    for (mo = 0; mo < 4; mo++) {
        static const unsigned shift[4] = { 4, 3, 2, 0 }; /* bits 47:36, 46:35, 45:34, 43:32 of the address */
        unsigned hash = (0xFBu << 8 | 0x34u) >> shift[mo] & 0xFFF, before;
        unsigned i;
        wr(m, RCTL, 0x04008002 | mo << 12);
        for (i = 0; i < 128; i++)
            wr(m, MTA + i * 4, i == hash / 32 ? ~(1u << hash % 32) : 0xFFFFFFFF);
        before = rd(m, RDH);
        give(m, f, 60);
        CHECK_EQ(rd(m, RDH), before); /* only the one bit counts */
        for (i = 0; i < 128; i++)
            wr(m, MTA + i * 4, i == hash / 32 ? 1u << hash % 32 : 0);
        give(m, f, 60);
        CHECK_EQ(rd(m, RDH), before + 1);
    }
    for (mo = 0; mo < 128; mo++)
        wr(m, MTA + mo * 4, 0);
    wr(m, RCTL, 0x04008002 | 1 << 4);
    give(m, f, 60);
    CHECK_EQ(rd(m, RDH), 5);
    CHECK_EQ(rd(m, MPRC), 5);
    machine_free(m);
}

/* §13.4.22: BSIZE and BSEX give the buffers 256 bytes to 16 KiB. */
TEST(e1000_receive_buffer_sizes)
{
    static const struct { unsigned bits, size; } rows[] = {
        { 0, 2048 }, { 1 << 16, 1024 }, { 2 << 16, 512 }, { 3 << 16, 256 },
        { 1u << 25 | 1 << 16, 16384 }, { 1u << 25 | 2 << 16, 8192 }, { 1u << 25 | 3 << 16, 4096 },
    };
    static uint8_t f[9000];
    unsigned i, k;
    frame_for_us(f, sizeof f);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct machine *m = machine_new();
        unsigned count = (sizeof f + rows[i].size - 1) / rows[i].size;
        rings(m);
        for (k = 0; k < RX_N; k++)
            mem_st(&m->emu, RX_RING + k * 16, RX_BUF + k * 16384, 8);
        wr(m, RCTL, 0x04008022 | rows[i].bits); /* LPE */
        CHECK_EQ(give(m, f, sizeof f), 1);
        CHECK_EQ(rd(m, RDH), count);
        for (k = 0; k < count; k++) {
            CHECK_EQ(rx_info(m, k) & 0xFFFF, k + 1 < count ? rows[i].size : sizeof f - (size_t)(count - 1) * rows[i].size);
            CHECK_EQ(rx_info(m, k) >> 32 & 3, k + 1 < count ? 1 : 3);
        }
        machine_free(m);
    }
}

/* Wake-up is not there: its bits read zero whatever is written. The counters of §13.7 count and are cleared by reading. */
TEST(e1000_wake_bits_read_zero_and_counters_clear)
{
    struct machine *m = machine_new();
    uint8_t f[64];
    unsigned i;
    rings(m);
    for (i = WUC; i <= WUS; i += 8) {
        wr(m, i, 0xFFFFFFFF);
        CHECK_EQ(rd(m, i), 0);
    }
    frame_for_us(f, 60);
    give(m, f, 60);
    memset(f, 0xFF, 6);
    give(m, f, 60);
    mem_write(&m->emu, TX_BUF, f, 60);
    tx(m, 0, TX_BUF, 0x0B000000 | 60, 0);
    wr(m, TDT, 1);
    CHECK_EQ(rd(m, PRC64), 2);
    CHECK_EQ(rd(m, BPRC), 1);
    CHECK_EQ(rd(m, MPRC), 0);
    CHECK_EQ(rd(m, TPR), 2);
    CHECK_EQ(rd(m, TPT), 1);
    CHECK(!rd(m, PRC64) && !rd(m, BPRC) && !rd(m, TPR) && !rd(m, TPT));
    machine_free(m);
}

/* PHY loopback as the self test uses it; a full ring drops then, since nobody can wait. */
TEST(e1000_loopback)
{
    struct machine *m = machine_new();
    uint8_t f[1024];
    unsigned i;
    rings(m);
    memset(f, 0xFF, sizeof f);
    memset(f + 512, 0xAA, 511);
    mem_write(&m->emu, TX_BUF, f, sizeof f);
    wr(m, MDIC, 1u << 26 | 1 << 21 | 0 << 16 | 0x4140);
    wr(m, RDT, 30);
    for (i = 0; i < 40; i++)
        tx(m, i, TX_BUF, 0x0B000000 | 1024, 0);
    wr(m, TDT, 40);
    CHECK_EQ(rd(m, TDH), 40);
    CHECK_EQ(m->frames, 0);
    CHECK_EQ(rd(m, RDH), 30);
    CHECK_EQ(rd(m, STATUS) & 2, 2);
    CHECK_EQ(mem_ld(&m->emu, RX_BUF + 2048 * 29 + 3, 1), 0xFF);
    CHECK_EQ(mem_ld(&m->emu, RX_BUF + 2048 * 29 + 600, 1), 0xAA);
    machine_free(m);
}

TEST(e1000_reset_by_io_port)
{
    struct machine *m = machine_new();
    rings(m);
    wr(m, IMS, 0xFF);
    port_write(&m->emu, 0xC000, IMS, 4);
    CHECK_EQ(port_read(&m->emu, 0xC004, 4), 0xFF);
    port_write(&m->emu, 0xC000, CTRL, 4);
    port_write(&m->emu, 0xC004, rd(m, CTRL) | 1 << 26, 4);
    CHECK_EQ(rd(m, CTRL) >> 26 & 1, 0);
    CHECK_EQ(rd(m, IMS), 0);
    CHECK_EQ(rd(m, RCTL), 0);
    CHECK_EQ(rd(m, TDT), 0);
    CHECK_EQ(rd(m, RA), 0x12005452);
    machine_free(m);
}

/* Invariant 4: rings and buffers that point at the card's own registers, and any register value, neither recurse nor overrun. */
TEST(e1000_survives_hostile_rings)
{
    struct machine *m = machine_new();
    uint64_t x = 88172645463325252u;
    static uint8_t f[4000];
    unsigned i, k;
    frame_for_us(f, sizeof f);
    for (i = 0; i < 300; i++) {
        rings(m);
        wr(m, MDIC, 1u << 26 | 1 << 21 | (i & 1 ? 0x4140 : 0x1140));
        for (k = 0; k < TX_N; k++) {
            uint64_t at = BAR;
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            if ((x & 3) == 0)
                at = TX_BUF + (x >> 8 & 0xFFF);
            else if ((x & 3) == 1)
                at = BAR + (x >> 8 & 0x7FFF);
            else
                at = x >> 20;
            tx(m, k, at, (uint32_t)(x >> 24), (uint32_t)(x >> 11));
            if (x >> 60 & 1)
                mem_st(&m->emu, RX_RING + k * 16, BAR + (x >> 12 & 0x5FFC), 8);
        }
        wr(m, RCTL, (uint32_t)x | 2 | 0x8000);
        wr(m, TDT, (uint32_t)(x >> 33));
        wr(m, TDT, TX_N - 1);
        give(m, f, 60 + (x >> 50) % 3900);
        for (k = 0; k < 64; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            wr(m, (unsigned)(x & 0x7FFC), (uint32_t)(x >> 16));
            rd(m, (unsigned)(x >> 20 & 0x7FFC));
        }
        wait_ns(m, 1000000);
    }
    CHECK_EQ(pci_read(m, 0), 0x100E8086);
    machine_free(m);
}

TEST_MAIN(TEST_CASE(e1000_pci_header), TEST_CASE(e1000_registers_hold_what_the_self_test_writes), TEST_CASE(e1000_eeprom_holds_address_and_checksum), TEST_CASE(e1000_phy_and_link),
          TEST_CASE(e1000_interrupt_cause_and_mask), TEST_CASE(e1000_itr_spaces_interrupts), TEST_CASE(e1000_sends_and_reports), TEST_CASE(e1000_pads_short_packets),
          TEST_CASE(e1000_tx_interrupt_is_delayed), TEST_CASE(e1000_waits_for_a_full_peer), TEST_CASE(e1000_tso_is_taken_whole), TEST_CASE(e1000_refused_packet_of_many_descriptors_is_the_same_later),
          TEST_CASE(e1000_tso_to_a_plain_peer_gives_right_segments), TEST_CASE(e1000_tso_of_short_packets), TEST_CASE(e1000_inserts_and_strips_vlan_tags), TEST_CASE(e1000_keeps_the_tag_of_short_frames), TEST_CASE(e1000_receives_into_descriptors),
          TEST_CASE(e1000_filters_addresses), TEST_CASE(e1000_rx_checksum_flags), TEST_CASE(e1000_long_packets_need_lpe_and_take_several_descriptors),
          TEST_CASE(e1000_full_ring_makes_the_sender_wait), TEST_CASE(e1000_super_frame_in_is_cut_and_the_rest_waits), TEST_CASE(e1000_loopback),
          TEST_CASE(e1000_rx_interrupt_is_delayed), TEST_CASE(e1000_inserts_checksums), TEST_CASE(e1000_tso_of_ipv6), TEST_CASE(e1000_multicast_offsets),
          TEST_CASE(e1000_receive_buffer_sizes), TEST_CASE(e1000_wake_bits_read_zero_and_counters_clear), TEST_CASE(e1000_reset_by_io_port),
          TEST_CASE(e1000_survives_hostile_rings))
