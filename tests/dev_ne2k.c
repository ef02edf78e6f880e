/* dev_ne2k.c - the RTL8029AS (NE2000 on PCI) at register level.
 *
 * Expected values are the DP8390D data sheet's (registers, buffer ring, remote DMA, filters), the RTL8029AS data sheet's (ids) and the NE2000's layout: the
 * station address PROM with each byte twice, 16 KiB and more of packet memory from 4000h. Multicast hash bits were computed with zlib's CRC-32.
 */
#include "nic.h"

enum { CR = 0, PSTART = 1, PSTOP = 2, BNRY = 3, TPSR = 4, TSR = 4, TBCR0 = 5, TBCR1 = 6, ISR = 7, RSAR0 = 8, RSAR1 = 9, RBCR0 = 10, RBCR1 = 11, RCR = 12, RSR = 12, TCR = 13, DCR = 14, IMR = 15,
       CURR = 7, MAR0 = 8, DATA = 0x10, RESET = 0x18, STOP = 0x21, START = 0x22, PAGE1 = 0x62, PAGE2 = 0xA2, PRX = 1, PTX = 2, RDC = 0x40, RST = 0x80 };

static void set(struct nic *m, unsigned reg, unsigned v) { out(m, reg, v, 1); }
static unsigned get(struct nic *m, unsigned reg) { return in(m, reg, 1); }

/* The data sheet's initialization: a receive ring of pages first to last - 1, transmit buffer at 40h. */
static struct nic *started(unsigned first, unsigned last, unsigned rcr)
{
    struct nic *m = nic_new("ne2k_pci");
    unsigned i;
    set(m, CR, STOP);
    set(m, DCR, 0x49); /* 16 bits wide, normal operation */
    set(m, RBCR0, 0), set(m, RBCR1, 0);
    set(m, RCR, rcr);
    set(m, TCR, 2); /* loopback while it is set up */
    set(m, PSTART, first), set(m, PSTOP, last), set(m, BNRY, first), set(m, TPSR, 0x40);
    set(m, ISR, 0xFF);
    set(m, IMR, 0x3F);
    set(m, CR, STOP | 0x40);
    for (i = 0; i < 6; i++)
        set(m, 1 + i, nic_mac[i]);
    set(m, CURR, first + 1);
    for (i = 0; i < 8; i++)
        set(m, MAR0 + i, 0);
    set(m, CR, START);
    set(m, TCR, 0);
    return m;
}

static void remote_read(struct nic *m, unsigned at, uint8_t *bytes, unsigned size)
{
    unsigned i;
    set(m, CR, START);
    set(m, RBCR0, size & 0xFF), set(m, RBCR1, size >> 8), set(m, RSAR0, at & 0xFF), set(m, RSAR1, at >> 8);
    set(m, CR, 0x0A);
    for (i = 0; i < size; i += 2)
        st16le(bytes + i, (uint16_t)in(m, DATA, 2));
}
static void remote_write(struct nic *m, unsigned at, const uint8_t *bytes, unsigned size)
{
    unsigned i;
    set(m, CR, START);
    set(m, RBCR0, size & 0xFF), set(m, RBCR1, size >> 8), set(m, RSAR0, at & 0xFF), set(m, RSAR1, at >> 8);
    set(m, CR, 0x12);
    for (i = 0; i < size; i += 2)
        out(m, DATA, ld16le(bytes + i), 2);
}
static unsigned page1(struct nic *m, unsigned reg)
{
    unsigned v;
    set(m, CR, PAGE1);
    v = get(m, reg);
    set(m, CR, START);
    return v;
}

TEST(ne2k_pci_header_and_chip_id)
{
    struct nic *m = nic_new("ne2k_pci");
    CHECK_EQ(pci_read(m, 0), 0x802910EC);
    CHECK_EQ(pci_read(m, 8) >> 8, 0x020000);
    CHECK_EQ(pci_read(m, 0x3C) >> 8 & 0xFF, 1);
    CHECK_EQ(get(m, 10), 0x50); /* RTL8029AS §4.2: 8029ID0, 8029ID1 */
    CHECK_EQ(get(m, 11), 0x43);
    nic_free(m);
}

/* DP8390D §11: after reset it is stopped, remote DMA aborted, RST shows, and nothing interrupts. */
TEST(ne2k_reset_values)
{
    struct nic *m = started(0x46, 0x80, 4);
    CHECK_EQ(get(m, CR), START);
    CHECK_EQ(get(m, ISR) & RST, 0);
    set(m, RESET, get(m, RESET)); /* as drivers pulse it */
    CHECK_EQ(get(m, CR), STOP);
    CHECK_EQ(get(m, ISR) & RST, RST);
    set(m, ISR, 0xFF);
    CHECK_EQ(get(m, ISR) & RST, RST); /* only the start command ends it: §10.3 */
    CHECK_EQ(m->level, 0);
    set(m, CR, START);
    CHECK_EQ(get(m, ISR) & RST, 0);
    nic_free(m);
}

TEST(ne2k_station_address_prom)
{
    struct nic *m = started(0x46, 0x80, 4);
    uint8_t prom[32];
    unsigned i;
    remote_read(m, 0, prom, 32);
    for (i = 0; i < 12; i++)
        CHECK_EQ(prom[i], nic_mac[i / 2]);
    CHECK_EQ(prom[28], 0x57); /* 'W': a 16-bit card */
    CHECK_EQ(prom[30], 0x57);
    remote_write(m, 0, (const uint8_t *)"XXXX", 4); /* it is a ROM */
    remote_read(m, 0, prom, 4);
    CHECK_EQ(prom[0], 0x52);
    nic_free(m);
}

/* DP8390D §10.1: what page 0 takes, page 2 shows; page 1 keeps addresses. */
TEST(ne2k_register_pages)
{
    struct nic *m = nic_new("ne2k_pci");
    unsigned i;
    set(m, CR, STOP);
    set(m, PSTART, 0x46), set(m, PSTOP, 0x60), set(m, TPSR, 0x41), set(m, BNRY, 0x50), set(m, RCR, 0x1F), set(m, TCR, 0x02), set(m, DCR, 0x49), set(m, IMR, 0x2A);
    CHECK_EQ(get(m, BNRY), 0x50);
    set(m, CR, STOP | 0x80);
    CHECK_EQ(get(m, 1), 0x46);
    CHECK_EQ(get(m, 2), 0x60);
    CHECK_EQ(get(m, 4), 0x41);
    CHECK_EQ(get(m, 12) & 0x3F, 0x1F);
    CHECK_EQ(get(m, 13) & 0x1F, 0x02);
    CHECK_EQ(get(m, 14) & 0x7F, 0x49);
    CHECK_EQ(get(m, 15) & 0x7F, 0x2A);
    set(m, CR, STOP | 0x40);
    for (i = 1; i < 16; i++)
        set(m, i, 0xA0 + i);
    for (i = 1; i < 16; i++)
        CHECK_EQ(get(m, i), 0xA0 + i);
    CHECK_EQ(get(m, CR), STOP | 0x40);
    nic_free(m);
}

TEST(ne2k_remote_dma_moves_bytes_and_counts)
{
    struct nic *m = started(0x46, 0x80, 4);
    uint8_t data[600], back[600];
    unsigned i;
    for (i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 1);
    set(m, ISR, 0xFF);
    remote_write(m, 0x4000, data, 600);
    CHECK_EQ(get(m, ISR) & RDC, RDC);
    CHECK_EQ(get(m, RSAR0) | get(m, RSAR1) << 8, 0x4000 + 600); /* CRDA */
    out(m, DATA, 0xDEAD, 2);                                    /* the count is used up */
    set(m, ISR, 0xFF);
    remote_read(m, 0x4000, back, 600);
    CHECK(!memcmp(data, back, 600));
    CHECK_EQ(get(m, ISR) & RDC, RDC);
    remote_read(m, 0x4000 + 600, back, 2);
    CHECK_EQ(ld16le(back), 0);
    set(m, RBCR0, 6), set(m, RBCR1, 0), set(m, RSAR0, 2), set(m, RSAR1, 0x40);
    set(m, CR, 0x0A);
    CHECK_EQ(get(m, DATA), data[2]); /* a word is gone with it: Linux reads the PROM so */
    CHECK_EQ(get(m, DATA), data[4]);
    CHECK_EQ(get(m, DATA), data[6]);
    CHECK_EQ(get(m, RSAR0), 8);
    set(m, DCR, 0x48); /* byte wide */
    set(m, RBCR0, 3), set(m, RBCR1, 0), set(m, RSAR0, 2), set(m, RSAR1, 0x40);
    set(m, CR, 0x0A);
    CHECK_EQ(get(m, DATA), data[2]);
    CHECK_EQ(get(m, DATA), data[3]);
    CHECK_EQ(get(m, DATA), data[4]);
    set(m, DCR, 0x49);
    remote_read(m, 0xF000, back, 2); /* nothing there */
    CHECK_EQ(ld16le(back), 0xFFFF);
    nic_free(m);
}

/* DP8390D §7.2: remote DMA that comes to PSTOP goes on at PSTART. */
TEST(ne2k_remote_dma_wraps_in_the_ring)
{
    struct nic *m = started(0x46, 0x50, 4);
    uint8_t bytes[4];
    remote_write(m, 0x4600, (const uint8_t *)"cd", 2);
    remote_write(m, 0x4FFE, (const uint8_t *)"ab", 2);
    remote_read(m, 0x4FFE, bytes, 4);
    CHECK(!memcmp(bytes, "abcd", 4));
    nic_free(m);
}

TEST(ne2k_sends_from_its_memory)
{
    struct nic *m = started(0x46, 0x80, 4);
    uint8_t f[300];
    nic_frame(f, 300, NULL);
    remote_write(m, 0x4000, f, 300);
    set(m, ISR, 0xFF);
    set(m, TPSR, 0x40), set(m, TBCR0, 300 & 0xFF), set(m, TBCR1, 300 >> 8);
    set(m, CR, 0x26);
    CHECK_EQ(m->frames, 1);
    CHECK_EQ(m->last_size, 300);
    CHECK(!memcmp(m->last, f, 300));
    CHECK_EQ(get(m, CR) & 4, 0); /* TXP ends */
    CHECK_EQ(get(m, TSR) & 1, 1);
    CHECK_EQ(get(m, ISR) & PTX, PTX);
    CHECK_EQ(m->level, 1);
    set(m, ISR, PTX);
    CHECK_EQ(m->level, 0);
    m->full = true; /* a peer that is full makes it wait */
    set(m, CR, 0x26);
    CHECK_EQ(get(m, CR) & 4, 4);
    CHECK_EQ(get(m, ISR) & PTX, 0);
    m->full = false;
    net_kick_peer(&m->wire);
    CHECK_EQ(m->frames, 2);
    CHECK_EQ(get(m, ISR) & PTX, PTX);
    set(m, TPSR, 0xBF), set(m, TBCR1, 0x05); /* leads out of the memory: nothing is sent, and it ends */
    set(m, CR, 0x26);
    CHECK_EQ(m->frames, 2);
    CHECK_EQ(get(m, CR) & 4, 0);
    nic_free(m);
}

/* DP8390D §10.3: TXP falls when the packet is gone, not by a write; CR is written for pages and remote DMA meanwhile. */
TEST(ne2k_command_writes_while_a_packet_waits)
{
    struct nic *m = started(0x46, 0x80, 4);
    uint8_t f[100];
    nic_frame(f, 100, NULL);
    remote_write(m, 0x4000, f, 100);
    set(m, ISR, 0xFF);
    set(m, TBCR0, 100), set(m, TBCR1, 0);
    m->full = true;
    set(m, CR, 0x26);
    set(m, CR, PAGE1);
    CHECK_EQ(get(m, CR), PAGE1 | 4);
    set(m, CR, START);
    CHECK_EQ(get(m, CR), START | 4);
    m->full = false;
    set(m, CR, 0x26); /* it is under way already */
    CHECK_EQ(m->frames, 0);
    CHECK_EQ(get(m, CR) & 4, 4);
    CHECK_EQ(get(m, ISR) & PTX, 0);
    net_kick_peer(&m->wire);
    CHECK_EQ(m->frames, 1);
    CHECK_EQ(get(m, CR), START);
    CHECK_EQ(get(m, ISR) & PTX, PTX);
    net_kick_peer(&m->wire);
    CHECK_EQ(m->frames, 1);
    nic_free(m);
}

/* DP8390D §7.1: status, next page, byte count before each packet; packets begin at a page; CURR moves on. */
TEST(ne2k_receives_into_the_ring)
{
    struct nic *m = started(0x46, 0x80, 4);
    uint8_t f[1514], got[1518];
    nic_frame(f, 300, NULL);
    CHECK_EQ(nic_give(m, f, 300), 1);
    CHECK_EQ(page1(m, CURR), 0x47 + 2); /* 4 + 300 + 4 bytes */
    CHECK_EQ(get(m, ISR) & PRX, PRX);
    CHECK_EQ(m->level, 1);
    CHECK_EQ(get(m, RSR) & 0x21, 1);
    remote_read(m, 0x4700, got, 304);
    CHECK_EQ(got[0] & 1, 1);
    CHECK_EQ(got[1], 0x49);
    CHECK_EQ(ld16le(got + 2), 304); /* with the frame check sequence */
    CHECK(!memcmp(got + 4, f, 300));
    nic_frame(f, 20, NULL); /* padded */
    CHECK_EQ(nic_give(m, f, 20), 1);
    remote_read(m, 0x4900, got, 64);
    CHECK_EQ(ld16le(got + 2), 64);
    CHECK_EQ(got[4 + 20], 0);
    set(m, ISR, 0xFF);
    CHECK_EQ(m->level, 0);
    set(m, IMR, 0); /* masked: no line */
    nic_frame(f, 1514, NULL);
    CHECK_EQ(nic_give(m, f, 1514), 1);
    CHECK_EQ(page1(m, CURR), 0x4A + 6);
    CHECK_EQ(m->level, 0);
    CHECK_EQ(get(m, ISR) & PRX, PRX);
    nic_free(m);
}

/* A packet that meets PSTOP goes on at PSTART; with 10 pages the third large one does. */
TEST(ne2k_ring_wraps_at_pstop)
{
    struct nic *m = started(0x46, 0x56, 4);
    uint8_t f[1514], got[1518];
    unsigned i, at;
    for (i = 0; i < 12; i++) {
        unsigned curr = page1(m, CURR);
        nic_frame(f, 1514, NULL);
        f[100] = (uint8_t)i;
        CHECK_EQ(nic_give(m, f, 1514), 1);
        remote_read(m, curr << 8, got, 1518);
        CHECK_EQ(ld16le(got + 2), 1518);
        CHECK(!memcmp(got + 4, f, 1514));
        at = curr + 6 >= 0x56 ? curr + 6 - 16 : curr + 6;
        CHECK_EQ(got[1], at);
        CHECK_EQ(page1(m, CURR), at);
        set(m, BNRY, at == 0x46 ? 0x55 : at - 1); /* as drivers do: one behind */
    }
    nic_free(m);
}

/* A ring without room keeps the sender waiting; a move of BNRY calls it. Nothing behind BNRY is overwritten. */
TEST(ne2k_full_ring_makes_the_sender_wait)
{
    struct nic *m = started(0x46, 0x56, 4);
    uint8_t f[1514], got[8];
    unsigned taken = 0;
    nic_frame(f, 1514, NULL);
    while (taken < 20 && nic_give(m, f, 1514))
        taken++;
    CHECK(taken == 1 || taken == 2); /* 15 pages, 6 each */
    remote_read(m, 0x4700, got, 4);
    CHECK_EQ(ld16le(got + 2), 1518);
    CHECK_EQ(m->kicks, 0);
    set(m, ISR, PRX); /* with more at the door it does not go */
    CHECK_EQ(get(m, ISR) & PRX, PRX);
    set(m, BNRY, 0x4C);
    CHECK_EQ(m->kicks, 1);
    set(m, ISR, PRX);
    CHECK_EQ(get(m, ISR) & PRX, 0);
    set(m, CR, PAGE1), set(m, CURR, 0x46), set(m, CR, START);
    set(m, BNRY, 0x45); /* one before PSTART, as Linux writes it when all is read at the wrap: the whole ring is free */
    CHECK_EQ(nic_give(m, f, 1514), 1);
    CHECK_EQ(nic_give(m, f, 1514), 1);
    nic_free(m);
}

TEST(ne2k_filters_addresses)
{
    static const struct { unsigned rcr; const char *dst; unsigned mar; unsigned taken; } rows[] = {
        { 0x00, "\x52\x54\x00\x12\x34\x56", 64, 1 }, { 0x00, "\x52\x54\x00\x12\x34\x57", 64, 0 }, { 0x10, "\x52\x54\x00\x12\x34\x57", 64, 1 },
        { 0x00, "\xFF\xFF\xFF\xFF\xFF\xFF", 64, 0 }, { 0x04, "\xFF\xFF\xFF\xFF\xFF\xFF", 64, 1 }, { 0x08, "\x01\x00\x5E\x00\x00\x01", 31, 1 },
        { 0x08, "\x01\x00\x5E\x00\x00\x01", 30, 0 }, { 0x00, "\x01\x00\x5E\x00\x00\x01", 31, 0 }, { 0x08, "\x33\x33\x00\x00\x00\x01", 62, 1 },
        { 0x08, "\x01\x80\xC2\x00\x00\x00", 0, 0 }, { 0x24, "\x52\x54\x00\x12\x34\x56", 64, 0 } /* monitor mode keeps nothing */
    };
    unsigned i, k;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct nic *m = started(0x46, 0x80, rows[i].rcr);
        uint8_t f[60];
        set(m, CR, PAGE1);
        for (k = 0; k < 8; k++)
            set(m, MAR0 + k, rows[i].mar / 8 == k ? 1u << (rows[i].mar & 7) : 0);
        set(m, CR, START);
        nic_frame(f, 60, rows[i].dst);
        CHECK_EQ(nic_give(m, f, 60), 1);
        CHECK_EQ(get(m, ISR) & PRX, rows[i].taken);
        if (rows[i].taken)
            CHECK_EQ(get(m, RSR) >> 5 & 1, (unsigned)f[0] & 1); /* PHY: by group or broadcast address */
        nic_free(m);
    }
}

TEST(ne2k_stopped_or_looped_it_takes_and_sends_nothing)
{
    struct nic *m = started(0x46, 0x80, 4);
    uint8_t f[60];
    nic_frame(f, 60, NULL);
    set(m, CR, STOP);
    CHECK_EQ(nic_give(m, f, 60), 1);
    set(m, CR, START);
    set(m, TCR, 2);
    CHECK_EQ(nic_give(m, f, 60), 1);
    CHECK_EQ(get(m, ISR) & PRX, 0);
    set(m, TBCR0, 60), set(m, TBCR1, 0);
    set(m, CR, 0x26); /* loopback: it ends well and nobody hears it */
    CHECK_EQ(get(m, ISR) & PTX, PTX);
    CHECK_EQ(m->frames, 0);
    nic_free(m);
}

/* Invariant 2: no register value leads out of the packet memory. */
TEST(ne2k_survives_any_register_value)
{
    struct nic *m = nic_new("ne2k_pci");
    uint64_t x = 88172645463325252u;
    uint8_t f[1514];
    unsigned i;
    for (i = 0; i < 200000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        out(m, (unsigned)(x & 0x1F), (uint32_t)(x >> 8), (x >> 40 & 3) == 0 ? 1 : (x >> 40 & 3) == 1 ? 4 : 2);
        in(m, (unsigned)(x >> 42 & 0x1F), 1);
        if ((i & 63) == 0) {
            nic_frame(f, sizeof f, "\xFF\xFF\xFF\xFF\xFF\xFF");
            nic_give(m, f, 60 + (size_t)(x >> 50) % 1455);
        }
    }
    CHECK_EQ(pci_read(m, 0), 0x802910EC);
    nic_free(m);
}

TEST_MAIN(TEST_CASE(ne2k_pci_header_and_chip_id), TEST_CASE(ne2k_reset_values), TEST_CASE(ne2k_station_address_prom), TEST_CASE(ne2k_register_pages),
          TEST_CASE(ne2k_remote_dma_moves_bytes_and_counts), TEST_CASE(ne2k_remote_dma_wraps_in_the_ring), TEST_CASE(ne2k_sends_from_its_memory), TEST_CASE(ne2k_command_writes_while_a_packet_waits),
          TEST_CASE(ne2k_receives_into_the_ring), TEST_CASE(ne2k_ring_wraps_at_pstop), TEST_CASE(ne2k_full_ring_makes_the_sender_wait), TEST_CASE(ne2k_filters_addresses),
          TEST_CASE(ne2k_stopped_or_looped_it_takes_and_sends_nothing), TEST_CASE(ne2k_survives_any_register_value))
