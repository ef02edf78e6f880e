/* dev_rtl8139.c - the RTL8139C+ at register level, in the 8139's own mode and in C+ mode.
 *
 * Expected values are those of the RTL8139C(L) data sheet 1.4 and the RTL8139C(L)+ data sheet 1.6: registers, EEPROM, receive ring, transmit descriptors,
 * C+ descriptors. Multicast hash bits were computed with zlib's CRC-32.
 */
#include "nic.h"

enum { IDR = 0, MAR = 8, TSD = 0x10, TSAD = 0x20, RBSTART = 0x30, CR = 0x37, CAPR = 0x38, CBR = 0x3A, IMR = 0x3C, ISR = 0x3E, TCR = 0x40, RCR = 0x44, TCTR = 0x48, MPC = 0x4C, E9346 = 0x50,
       TIMERINT = 0x54, MSR = 0x58, TSAD_ALL = 0x60, BMCR = 0x62, BMSR = 0x64, TPPOLL = 0xD9, CPCR = 0xE0, RDSAR = 0xE4, ROK = 1, TOK = 4, LINK = 0x20, TDU = 0x80, SWINT = 0x100, TIMEOUT = 0x4000,
       RING = 0x10000, TX = 0x40000, TXD = 0x50000, RXD = 0x60000, RXB = 0x80000 };
#define OWN 0x80000000u
#define EOR 0x40000000u
#define FS 0x20000000u
#define LS 0x10000000u

/* Receiver and transmitter on; the ring has 8 KiB. rcr: which addresses. */
static struct nic *started(uint32_t rcr)
{
    struct nic *m = nic_new("rtl8139");
    out(m, CR, 0x10, 1);
    out(m, RBSTART, RING, 4);
    out(m, CR, 0x0C, 1);
    out(m, RCR, rcr, 4);
    out(m, IMR, 0xFFFF, 2);
    out(m, ISR, 0xFFFF, 2);
    return m;
}

static void transmit(struct nic *m, unsigned i, const uint8_t *f, size_t size)
{
    mem_write(&m->emu, TX + i * 2048, f, size);
    out(m, TSAD + 4 * i, TX + i * 2048, 4);
    out(m, TSD + 4 * i, (uint32_t)size, 4);
}

TEST(rtl8139_pci_header)
{
    struct nic *m = nic_new("rtl8139");
    CHECK_EQ(pci_read(m, 0), 0x813910EC);
    CHECK_EQ(pci_read(m, 8), 0x02000020); /* the C+'s revision */
    CHECK_EQ(pci_read(m, 0x3C) >> 8 & 0xFF, 1);
    pci_write(m, 0x10, 0xFFFFFFFF);
    CHECK_EQ(pci_read(m, 0x10), 0xFFFFFF01); /* 256 ports */
    pci_write(m, 0x14, 0xFFFFFFFF);
    CHECK_EQ(pci_read(m, 0x14), 0xFFFFFF00); /* and 256 bytes of memory */
    nic_free(m);
}

TEST(rtl8139_reset_values)
{
    struct nic *m = nic_new("rtl8139");
    unsigned i, round;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < 6; i++)
            CHECK_EQ(in(m, IDR + i, 1), nic_mac[i]);
        CHECK_EQ(in(m, CR, 1), 1); /* buffer empty */
        CHECK_EQ(in(m, CAPR, 2), 0xFFF0);
        CHECK_EQ(in(m, CBR, 2), 0);
        CHECK_EQ(in(m, IMR, 2), 0);
        CHECK_EQ(in(m, ISR, 2), 0);
        CHECK_EQ(in(m, TCR, 4) & 0x7CC00000, 0x74800000); /* hardware version: RTL8139C+ */
        CHECK_EQ(in(m, RCR, 4), 0);
        CHECK_EQ(in(m, TSAD_ALL, 2), 0x000F);
        for (i = 0; i < 4; i++)
            CHECK_EQ(in(m, TSD + 4 * i, 4) & 0x2000, 0x2000); /* OWN: free for the driver */
        CHECK_EQ(in(m, MPC, 4) & 0xFFFFFF, 0);
        CHECK_EQ(in(m, BMSR, 2), 0x782D); /* link, negotiation done */
        CHECK_EQ(in(m, MSR, 1) & 4, 0);   /* LINKB: up */
        out(m, IMR, 0xFFFF, 2), out(m, RCR, 0x0F, 4), out(m, RBSTART, RING, 4), out(m, TSAD, TX, 4), out(m, CR, 0x0C, 1);
        CHECK_EQ(in(m, CR, 1), 0x0D);
        out(m, CR, 0x10, 1); /* software reset; RST ends by itself */
    }
    nic_free(m);
}

static unsigned eeprom_word(struct nic *m, unsigned word)
{
    unsigned command = 6u << 6 | word, i, v = 0;
    out(m, E9346, 0x80, 1);
    for (i = 9; i--;) {
        unsigned di = command >> i & 1 ? 2 : 0;
        out(m, E9346, 0x88 | di, 1), out(m, E9346, 0x8C | di, 1);
    }
    for (i = 0; i < 16; i++) {
        out(m, E9346, 0x88, 1), out(m, E9346, 0x8C, 1);
        v = v << 1 | (in(m, E9346, 1) & 1);
    }
    out(m, E9346, 0, 1);
    return v;
}

/* 93C46: start bit, opcode 10, six bits of address, sixteen of data; contents as the data sheet's EEPROM chapter. */
TEST(rtl8139_eeprom)
{
    struct nic *m = nic_new("rtl8139");
    CHECK_EQ(eeprom_word(m, 0), 0x8129);
    CHECK_EQ(eeprom_word(m, 1), 0x10EC);
    CHECK_EQ(eeprom_word(m, 2), 0x8139);
    CHECK_EQ(eeprom_word(m, 7), 0x5452);
    CHECK_EQ(eeprom_word(m, 8), 0x1200);
    CHECK_EQ(eeprom_word(m, 9), 0x5634);
    nic_free(m);
}

/* Configuration and IDR can be written in mode EEM = 11 only; autoload (01) brings the EEPROM's address back. */
TEST(rtl8139_configuration_is_locked)
{
    struct nic *m = nic_new("rtl8139");
    uint32_t config1 = in(m, 0x52, 1);
    out(m, IDR, 0xAABBCCDD, 4);
    CHECK_EQ(in(m, IDR, 4), 0x12005452);
    out(m, 0x52, config1 ^ 0x20, 1);
    CHECK_EQ(in(m, 0x52, 1), config1);
    out(m, E9346, 0xC0, 1);
    out(m, IDR, 0xAABBCCDE, 4);
    out(m, 0x52, config1 ^ 0x20, 1);
    CHECK_EQ(in(m, IDR, 4), 0xAABBCCDE);
    CHECK_EQ(in(m, 0x52, 1), config1 ^ 0x20);
    out(m, E9346, 0x40, 1);
    CHECK_EQ(in(m, IDR, 4), 0x12005452);
    nic_free(m);
}

/* CR.RST leaves IDR and MAR alone; power-on reset loads the EEPROM's address. */
TEST(rtl8139_software_reset_keeps_addresses)
{
    struct nic *m = nic_new("rtl8139");
    out(m, E9346, 0xC0, 1);
    out(m, IDR, 0xAABBCCDE, 4), out(m, IDR + 4, 0x1122, 4);
    out(m, E9346, 0, 1);
    out(m, MAR, 0x12345678, 4);
    out(m, CR, 0x10, 1);
    CHECK_EQ(in(m, IDR, 4), 0xAABBCCDE);
    CHECK_EQ(in(m, IDR + 4, 2), 0x1122);
    CHECK_EQ(in(m, MAR, 4), 0x12345678);
    m->emu.devices->cls->reset(m->emu.devices);
    pci_write(m, 0x10, NIC_PORTS | 1);
    pci_write(m, 0x04, 7);
    CHECK_EQ(in(m, IDR, 4), 0x12005452);
    CHECK_EQ(in(m, IDR + 4, 2), 0x5634);
    CHECK_EQ(in(m, MAR, 4), 0);
    nic_free(m);
}

TEST(rtl8139_interrupt_status_and_mask)
{
    struct nic *m = started(0x0F);
    out(m, IMR, 0, 2);
    net_set_link(&m->wire, false);
    CHECK_EQ(in(m, ISR, 2), LINK);
    CHECK_EQ(m->level, 0);
    CHECK_EQ(in(m, MSR, 1) & 4, 4);
    CHECK_EQ(in(m, BMSR, 2) & 0x24, 0);
    out(m, IMR, LINK, 2);
    CHECK_EQ(m->level, 1);
    CHECK_EQ(in(m, ISR, 2), LINK); /* reading clears nothing */
    out(m, ISR, TOK, 2);
    CHECK_EQ(m->level, 1);
    out(m, ISR, LINK, 2);
    CHECK_EQ(m->level, 0);
    CHECK_EQ(in(m, ISR, 2), 0);
    net_set_link(&m->wire, true);
    out(m, ISR, LINK, 1); /* a byte will do */
    CHECK_EQ(in(m, ISR, 2), 0);
    CHECK_EQ(m->level, 0);
    nic_free(m);
}

/* Four descriptors, used in turn; OWN and TOK come back; TSAD tells all four at a glance. */
TEST(rtl8139_sends_from_four_buffers)
{
    struct nic *m = started(0x0F);
    uint8_t f[300];
    unsigned i;
    for (i = 0; i < 8; i++) {
        nic_frame(f, 300, NULL);
        f[50] = (uint8_t)i;
        transmit(m, i & 3, f, 100 + i);
        CHECK_EQ(m->frames, i + 1);
        CHECK_EQ(m->last_size, 100 + i);
        CHECK_EQ(m->last[50], i);
        CHECK_EQ(in(m, TSD + 4 * (i & 3), 4) & 0xA000, 0xA000);
        CHECK_EQ(in(m, TSD + 4 * (i & 3), 4) & 0x1FFF, 100 + i);
        CHECK_EQ(in(m, ISR, 2) & TOK, TOK);
        CHECK_EQ(m->level, 1);
        out(m, ISR, TOK, 2);
        CHECK_EQ(m->level, 0);
    }
    CHECK_EQ(in(m, TSAD_ALL, 2), 0xF00F);
    transmit(m, 0, f, 20); /* padded */
    CHECK_EQ(m->last_size, 60);
    m->full = true;
    transmit(m, 1, f, 200), transmit(m, 2, f, 201);
    CHECK_EQ(in(m, TSAD_ALL, 2) & 0x0006, 0);
    m->full = false;
    net_kick_peer(&m->wire);
    CHECK_EQ(m->frames, 11);
    CHECK_EQ(m->last_size, 201);
    CHECK_EQ(in(m, TSAD_ALL, 2), 0xF00F);
    nic_free(m);
}

/* Header of status and length with the frame check sequence; packets at multiples of four; CAPR is 16 below what was read. */
TEST(rtl8139_receives_into_the_ring)
{
    struct nic *m = started(0x0F);
    uint8_t f[1514], got[1520];
    nic_frame(f, 301, NULL);
    CHECK_EQ(nic_give(m, f, 301), 1);
    CHECK_EQ(in(m, CR, 1) & 1, 0);
    CHECK_EQ(in(m, CBR, 2), 312); /* 4 + 301 + 4, rounded up */
    CHECK_EQ(in(m, ISR, 2) & ROK, ROK);
    mem_read(&m->emu, RING, got, 312);
    CHECK_EQ(ld16le(got), 0x4001); /* physical address matched, good */
    CHECK_EQ(ld16le(got + 2), 305);
    CHECK(!memcmp(got + 4, f, 301));
    nic_frame(f, 60, "\xFF\xFF\xFF\xFF\xFF\xFF");
    nic_give(m, f, 60);
    CHECK_EQ(mem_ld(&m->emu, RING + 312, 4), 64u << 16 | 0x2001);
    nic_frame(f, 20, NULL); /* padded */
    nic_give(m, f, 20);
    CHECK_EQ(mem_ld(&m->emu, RING + 312 + 68, 4), 64u << 16 | 0x4001);
    out(m, CAPR, 312 - 16, 2);
    CHECK_EQ(in(m, CR, 1) & 1, 0);
    out(m, CAPR, 312 + 68 + 68 - 16, 2);
    CHECK_EQ(in(m, CR, 1) & 1, 1);
    CHECK_EQ(in(m, CBR, 2), 448);
    nic_free(m);
}

static void ring_bytes(struct nic *m, uint32_t at, uint8_t *out_bytes, size_t size, bool straight)
{
    size_t i;
    for (i = 0; i < size; i++)
        out_bytes[i] = (uint8_t)mem_ld(&m->emu, RING + (straight ? at + i : (at + i) % 8192), 1);
}

/* Without WRAP a packet goes on at the ring's start; with it, behind the end, in one piece. Either way the next one begins where the arithmetic says. */
TEST(rtl8139_ring_wraps)
{
    unsigned wrap, i;
    for (wrap = 0; wrap < 2; wrap++) {
        struct nic *m = started(0x0F | (wrap ? 0x80 : 0));
        uint8_t f[1400], got[1404];
        uint32_t at = 0;
        for (i = 0; i < 40; i++) {
            size_t size = 600 + i * 19;
            nic_frame(f, size, NULL);
            f[20] = (uint8_t)i;
            CHECK_EQ(nic_give(m, f, size), 1);
            ring_bytes(m, at, got, size + 4, wrap);
            CHECK_EQ(ld16le(got), 0x4001);
            CHECK_EQ(ld16le(got + 2), size + 4);
            CHECK(!memcmp(got + 4, f, size));
            at = (uint32_t)((at + 4 + size + 4 + 3) & ~3u) % 8192;
            CHECK_EQ(in(m, CBR, 2), at);
            out(m, CAPR, at - 16, 2);
            CHECK_EQ(in(m, CR, 1) & 1, 1);
        }
        nic_free(m);
    }
}

/* RCR.WRAP means nothing with the ring of 64 KiB. */
TEST(rtl8139_largest_ring_always_wraps)
{
    struct nic *m = started(0x188F);
    uint8_t f[1514];
    uint32_t at = 0, bad = 0;
    unsigned i, k;
    for (i = 0; i < 60; i++) {
        nic_frame(f, sizeof f, NULL);
        f[20] = (uint8_t)i;
        CHECK_EQ(nic_give(m, f, sizeof f), 1);
        for (k = 0; k < sizeof f; k++)
            bad += mem_ld(&m->emu, RING + (at + 4 + k) % 65536, 1) != f[k];
        at = (at + 1524) % 65536;
        CHECK_EQ(in(m, CBR, 2), at);
        out(m, CAPR, at - 16, 2);
    }
    CHECK_EQ(bad, 0);
    CHECK_EQ(mem_ld(&m->emu, RING + 65536, 4), 0); /* nothing behind its end */
    nic_free(m);
}

/* Invariant 3: a driver that clears ISR before it has read what is there hears of it again, while more is at the door. */
TEST(rtl8139_full_ring_keeps_its_interrupt)
{
    struct nic *m = started(0x0F);
    uint8_t f[1514];
    unsigned taken = 0;
    nic_frame(f, sizeof f, NULL);
    nic_give(m, f, sizeof f);
    out(m, ISR, ROK, 2);
    CHECK_EQ(in(m, ISR, 2) & ROK, 0); /* nobody waits */
    while (taken < 20 && nic_give(m, f, sizeof f))
        taken++;
    CHECK(taken < 20);
    out(m, ISR, 0xFFFF, 2);
    CHECK_EQ(in(m, ISR, 2) & ROK, ROK);
    CHECK_EQ(m->level, 1);
    out(m, ISR, ROK, 1);
    CHECK_EQ(in(m, ISR, 2) & ROK, ROK);
    CHECK_EQ(m->kicks, 0);
    out(m, CAPR, in(m, CBR, 2) - 16, 2);
    CHECK_EQ(m->kicks, 1);
    out(m, ISR, 0xFFFF, 2);
    CHECK_EQ(in(m, ISR, 2), 0);
    CHECK_EQ(m->level, 0);
    for (taken = 0; taken < 20 && nic_give(m, f, sizeof f); taken++)
        out(m, ISR, 0xFFFF, 2); /* nobody waits yet */
    CHECK(taken < 20);
    CHECK_EQ(in(m, ISR, 2) & ROK, ROK); /* now one does */
    CHECK_EQ(m->level, 1);
    nic_free(m);
}

/* A full ring: what is there stays, the sender waits, and CAPR's move calls it. */
TEST(rtl8139_full_ring_makes_the_sender_wait)
{
    struct nic *m = started(0x0F);
    uint8_t f[1514], got[1518];
    unsigned taken = 0;
    nic_frame(f, 1514, NULL);
    while (taken < 20 && nic_give(m, f, 1514))
        taken++;
    CHECK(taken >= 4 && taken <= 5); /* 8 KiB, 1524 each */
    mem_read(&m->emu, RING, got, 1518);
    CHECK(!memcmp(got + 4, f, 1514));
    CHECK_EQ(m->kicks, 0);
    out(m, CAPR, 1524 - 16, 2);
    CHECK_EQ(m->kicks, 1);
    CHECK_EQ(nic_give(m, f, 1514), 1);
    out(m, CR, 0x04, 1); /* receiver off: nothing waits any more */
    CHECK_EQ(nic_give(m, f, 1514), 1);
    nic_free(m);
}

TEST(rtl8139_filters_addresses)
{
    static const struct { unsigned rcr; const char *dst; unsigned mar; unsigned taken; } rows[] = {
        { 0x02, "\x52\x54\x00\x12\x34\x56", 64, 0x4001 }, { 0x02, "\x52\x54\x00\x12\x34\x57", 64, 0 }, { 0x01, "\x52\x54\x00\x12\x34\x57", 64, 0x0001 },
        { 0x0D & ~1u, "\x52\x54\x00\x12\x34\x56", 64, 0 }, { 0x08, "\xFF\xFF\xFF\xFF\xFF\xFF", 64, 0x2001 }, { 0x06, "\xFF\xFF\xFF\xFF\xFF\xFF", 64, 0 },
        { 0x04, "\x01\x00\x5E\x00\x00\x01", 31, 0x8001 }, { 0x04, "\x01\x00\x5E\x00\x00\x01", 30, 0 }, { 0x0A, "\x01\x00\x5E\x00\x00\x01", 31, 0 },
        { 0x04, "\x33\x33\x00\x00\x00\x01", 62, 0x8001 }, { 0x04, "\x01\x80\xC2\x00\x00\x00", 25, 0x8001 }, { 0x01, "\x01\x80\xC2\x00\x00\x00", 64, 0x8001 }
    };
    unsigned i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct nic *m = started(rows[i].rcr);
        uint8_t f[60];
        out(m, MAR, rows[i].mar < 32 ? 1u << rows[i].mar : 0, 4);
        out(m, MAR + 4, rows[i].mar >= 32 && rows[i].mar < 64 ? 1u << (rows[i].mar - 32) : 0, 4);
        nic_frame(f, 60, rows[i].dst);
        CHECK_EQ(nic_give(m, f, 60), 1);
        CHECK_EQ(mem_ld(&m->emu, RING, 2), rows[i].taken);
        nic_free(m);
    }
}

TEST(rtl8139_loopback)
{
    struct nic *m = started(0x0F);
    uint8_t f[200], got[204];
    out(m, TCR, 0x00060000, 4);
    nic_frame(f, 200, NULL);
    transmit(m, 0, f, 200);
    CHECK_EQ(m->frames, 0);
    CHECK_EQ(in(m, ISR, 2) & (ROK | TOK), ROK | TOK);
    mem_read(&m->emu, RING, got, 204);
    CHECK_EQ(ld16le(got + 2), 204);
    CHECK(!memcmp(got + 4, f, 200));
    nic_free(m);
}

/* TCTR counts PCI clocks of 33 MHz; at TimerInt comes one interrupt, not a storm, and the next a whole round later. */
TEST(rtl8139_timer)
{
    struct nic *m = started(0x0F);
    uint32_t count;
    out(m, TCTR, 0, 4);
    nic_wait(m, 1000000);
    CHECK_EQ(in(m, TCTR, 4), 33000);
    out(m, TIMERINT, 66000, 4);
    nic_wait(m, 999000);
    CHECK_EQ(in(m, ISR, 2) & TIMEOUT, 0);
    nic_wait(m, 2000);
    CHECK_EQ(in(m, ISR, 2) & TIMEOUT, TIMEOUT);
    count = in(m, TCTR, 4);
    CHECK(count >= 66000 && count < 66100);
    out(m, ISR, TIMEOUT, 2);
    nic_wait(m, 1000000000);
    CHECK_EQ(in(m, ISR, 2) & TIMEOUT, 0);
    out(m, TIMERINT, in(m, TCTR, 4), 4); /* just where it stands */
    nic_wait(m, 1000000);
    CHECK(in(m, TCTR, 4) != count);
    nic_free(m);
}

/* ---- C+ mode ---- */

static struct nic *started_cp(unsigned cpcr, unsigned descriptors)
{
    struct nic *m = nic_new("rtl8139");
    unsigned i;
    out(m, CR, 0x10, 1);
    out(m, CPCR, cpcr, 2);
    out(m, RDSAR, RXD, 4), out(m, RDSAR + 4, 0, 4);
    out(m, TSAD, TXD, 4), out(m, TSAD + 4, 0, 4);
    out(m, TSAD + 8, TXD + 0x1000, 4), out(m, TSAD + 12, 0, 4);
    for (i = 0; i < descriptors; i++) {
        mem_st(&m->emu, RXD + i * 16, OWN | (i == descriptors - 1 ? EOR : 0) | 1536, 4);
        mem_st(&m->emu, RXD + i * 16 + 4, 0, 4);
        mem_st(&m->emu, RXD + i * 16 + 8, RXB + i * 2048, 8);
    }
    out(m, CR, 0x0C, 1);
    out(m, RCR, 0x0F, 4);
    out(m, IMR, 0xFFFF, 2);
    return m;
}

static void cp_tx(struct nic *m, unsigned ring, unsigned i, uint32_t dw0, uint32_t dw1, uint64_t at)
{
    uint64_t d = TXD + ring * 0x1000u + i * 16u;
    mem_st(&m->emu, d + 8, at, 8);
    mem_st(&m->emu, d + 4, dw1, 4);
    mem_st(&m->emu, d, dw0, 4);
}

static size_t tcp_frame(uint8_t *f, size_t payload, bool sums)
{
    size_t i;
    memcpy(f, nic_mac, 6);
    memset(f + 6, 2, 6);
    st16be(f + 12, 0x0800);
    memset(f + 14, 0, 40);
    f[14] = 0x45;
    st16be(f + 16, (uint16_t)(40 + payload));
    f[22] = 64, f[23] = 6;
    st32be(f + 26, 0x0A000202), st32be(f + 30, 0x0A00020F);
    st16be(f + 34, 80), st16be(f + 36, 1024), st32be(f + 38, 1000), st32be(f + 42, 2000);
    f[46] = 0x50, f[47] = 0x18;
    st16be(f + 48, 512);
    for (i = 0; i < payload; i++)
        f[54 + i] = (uint8_t)(i * 3 + 1);
    if (sums) {
        st16be(f + 24, net_checksum(f + 14, 20, 0));
        st16be(f + 50, net_checksum(f + 34, 20 + payload, net_checksum_fold(net_checksum_add(f + 26, 8, 6 + (uint32_t)(20 + payload)))));
    }
    return 54 + payload;
}

TEST(rtl8139_cp_receives_into_descriptors)
{
    struct nic *m = started_cp(0x23, 4);
    uint8_t f[400], got[400];
    size_t size = tcp_frame(f, 300, true);
    unsigned i;
    for (i = 0; i < 4; i++) {
        CHECK_EQ(nic_give(m, f, size), 1);
        CHECK_EQ(mem_ld(&m->emu, RXD + i * 16, 4), FS | LS | (i == 3 ? EOR : 0) | 1u << 25 | 1u << 16 | (size + 4)); /* physical match, TCP/IP, no error */
        mem_read(&m->emu, RXB + i * 2048, got, size);
        CHECK(!memcmp(got, f, size));
    }
    CHECK_EQ(in(m, ISR, 2) & ROK, ROK);
    CHECK_EQ(nic_give(m, f, size), 0); /* all used: the sender waits */
    mem_st(&m->emu, RXD, OWN | 1536, 4);
    out(m, ISR, 0xFFFF, 2); /* a driver tells nothing but that */
    CHECK(m->kicks > 0);
    f[60] ^= 1;
    CHECK_EQ(nic_give(m, f, size), 1);
    CHECK_EQ(mem_ld(&m->emu, RXD, 4) >> 13 & 7, 1); /* TCPF */
    mem_st(&m->emu, RXD + 16, OWN | 1536, 4);
    f[60] ^= 1, f[22] ^= 1;
    CHECK_EQ(nic_give(m, f, size), 1);
    CHECK_EQ(mem_ld(&m->emu, RXD + 16, 4) >> 13 & 7, 4); /* IPF */
    nic_free(m);
}

/* Linux's 8139cp clears ISR, then empties the ring and gives the descriptors back, then allows interrupts again: nothing later tells the card. */
TEST(rtl8139_cp_goes_on_when_interrupts_are_allowed_again)
{
    struct nic *m = started_cp(0x23, 2);
    uint8_t f[400];
    size_t size = tcp_frame(f, 300, true);
    unsigned i;
    for (i = 0; i < 2; i++)
        CHECK_EQ(nic_give(m, f, size), 1);
    CHECK_EQ(nic_give(m, f, size), 0);
    out(m, IMR, 0, 2);
    out(m, ISR, ROK, 2);
    CHECK_EQ(m->kicks, 0);
    for (i = 0; i < 2; i++)
        mem_st(&m->emu, RXD + i * 16, OWN | (i ? EOR : 0) | 1536, 4);
    out(m, IMR, 0xFFFF, 2);
    CHECK_EQ(m->kicks, 1);
    CHECK_EQ(nic_give(m, f, size), 1);
    nic_free(m);
}

TEST(rtl8139_cp_sends_from_descriptors)
{
    struct nic *m = started_cp(0x03, 1);
    uint8_t f[300];
    nic_frame(f, 300, NULL);
    mem_write(&m->emu, TX, f, 300);
    cp_tx(m, 0, 0, OWN | FS | 100, 0, TX); /* in two pieces */
    cp_tx(m, 0, 1, OWN | LS | 200, 0, TX + 100);
    cp_tx(m, 0, 2, OWN | EOR | FS | LS | 150, 0, TX);
    cp_tx(m, 1, 0, OWN | EOR | FS | LS | 120, 0, TX);
    CHECK_EQ(m->frames, 0);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 2);
    CHECK_EQ(m->last_size, 150);
    CHECK_EQ(mem_ld(&m->emu, TXD, 4), FS | 100);
    CHECK_EQ(mem_ld(&m->emu, TXD + 16, 4), LS | 200);
    CHECK_EQ(mem_ld(&m->emu, TXD + 32, 4), EOR | FS | LS | 150);
    CHECK_EQ(in(m, ISR, 2) & (TOK | TDU), TOK | TDU);
    CHECK_EQ(in(m, TPPOLL, 1) & 0xC0, 0);
    out(m, TPPOLL, 0x80, 1); /* the ring of high priority */
    CHECK_EQ(m->frames, 3);
    CHECK_EQ(m->last_size, 120);
    cp_tx(m, 0, 0, OWN | EOR | FS | LS | 300, 0, TX);
    m->full = true;
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(mem_ld(&m->emu, TXD, 4) & OWN, OWN);
    m->full = false;
    net_kick_peer(&m->wire);
    CHECK_EQ(m->frames, 4);
    CHECK(!memcmp(m->last, f, 300));
    nic_free(m);
}

/* A packet may take the whole ring of 64; one that finds no end there, or has more, is lost and does not stop the ring. */
TEST(rtl8139_cp_packets_of_many_descriptors)
{
    struct nic *m = started_cp(0x03, 1);
    uint8_t f[640];
    unsigned i, n, kept;
    nic_frame(f, sizeof f, NULL);
    mem_write(&m->emu, TX, f, sizeof f);
    for (n = 41; n <= 64; n += 23) {
        for (i = 0; i < n; i++)
            cp_tx(m, 0, i, OWN | (i ? 0 : FS) | (i == n - 1 ? LS | EOR : 0) | 10, 0, TX + 10 * i);
        m->frames = 0;
        out(m, TPPOLL, 0x40, 1);
        CHECK_EQ(m->frames, 1);
        CHECK_EQ(m->last_size, 10 * n);
        CHECK(!memcmp(m->last, f, 10 * n));
        for (i = kept = 0; i < n; i++)
            kept += (mem_ld(&m->emu, TXD + 16 * i, 4) & OWN) != 0;
        CHECK_EQ(kept, 0);
    }
    for (i = 0; i < 64; i++) /* no last one in the ring */
        cp_tx(m, 0, i, OWN | (i ? 0 : FS) | (i == 63 ? EOR : 0) | 10, 0, TX + 10 * i);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 1);
    for (i = kept = 0; i < 64; i++)
        kept += (mem_ld(&m->emu, TXD + 16 * i, 4) & OWN) != 0;
    CHECK_EQ(kept, 0);
    CHECK_EQ(mem_ld(&m->emu, TXD, 4), FS | 1u << 23 | 10); /* TES */
    for (i = 0; i < 40; i++) /* the same in a smaller ring: one round, no more */
        cp_tx(m, 0, i, OWN | (i ? 0 : FS) | (i == 39 ? EOR : 0) | 10, 0, TX + 10 * i);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 1);
    cp_tx(m, 0, 0, OWN | FS | LS | 100, 0, TX);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 2);
    CHECK_EQ(mem_ld(&m->emu, TXD, 4), FS | LS | 100);
    out(m, CR, 0x08, 1), out(m, CR, 0x0C, 1);
    for (i = 0; i < 70; i++) /* 70 and a good one behind: the rest of the lost packet is lost too */
        cp_tx(m, 0, i, OWN | (i ? 0 : FS) | (i == 69 ? LS : 0) | 10, 0, TX + 10 * (i % 64));
    cp_tx(m, 0, 70, OWN | FS | LS | EOR | 120, 0, TX);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 3);
    CHECK_EQ(m->last_size, 120);
    for (i = kept = 0; i < 71; i++)
        kept += (mem_ld(&m->emu, TXD + 16 * i, 4) & OWN) != 0;
    CHECK_EQ(kept, 0);
    nic_free(m);
}

/* DTCCR: the tally block of 64 bytes goes to guest memory and the command bit falls. */
TEST(rtl8139_cp_dumps_tally_counters)
{
    struct nic *m = started_cp(0x03, 4);
    uint8_t f[100], b[72];
    nic_frame(f, sizeof f, NULL);
    mem_write(&m->emu, TX, f, sizeof f);
    cp_tx(m, 0, 0, OWN | FS | LS | EOR | 100, 0, TX);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(nic_give(m, f, sizeof f), 1);
    nic_frame(f, sizeof f, "\xFF\xFF\xFF\xFF\xFF\xFF");
    CHECK_EQ(nic_give(m, f, sizeof f), 1);
    memset(b, 0xEE, sizeof b);
    mem_write(&m->emu, TX + 0x800, b, sizeof b);
    out(m, 0x14, 0, 4);
    out(m, 0x10, (TX + 0x800) | 8, 4);
    CHECK_EQ(in(m, 0x10, 4), TX + 0x800);
    mem_read(&m->emu, TX + 0x800, b, sizeof b);
    CHECK_EQ(ld64le(b), 1);      /* TxOk */
    CHECK_EQ(ld64le(b + 8), 2);  /* RxOk */
    CHECK_EQ(ld64le(b + 16), 0); /* TxEr */
    CHECK_EQ(ld64le(b + 24), 0); /* RxEr, MissPkt, FAE */
    CHECK_EQ(ld64le(b + 32), 0); /* Tx1Col, TxMCol */
    CHECK_EQ(ld64le(b + 40), 1); /* RxOkPhy */
    CHECK_EQ(ld64le(b + 48), 1); /* RxOkBrd */
    CHECK_EQ(ld64le(b + 56), 0); /* RxOkMul, TxAbt, TxUndrn */
    CHECK_EQ(b[64], 0xEE);
    out(m, 0x10, TX + 0x900, 4); /* without the command: nothing */
    CHECK_EQ(mem_ld(&m->emu, TX + 0x900, 1), 0);
    nic_free(m);
}

TEST(rtl8139_cp_fills_in_checksums_and_tags)
{
    struct nic *m = started_cp(0x43, 2);
    uint8_t f[400], want[400], plain[400];
    size_t size = tcp_frame(f, 200, false);
    tcp_frame(want, 200, true);
    mem_write(&m->emu, TX, f, size);
    m->wire.takes_csum = m->wire.takes_gso = false;
    cp_tx(m, 0, 0, OWN | FS | LS | 1u << 18 | 1u << 16 | (uint32_t)size, 0, TX); /* IPCS, TCPCS */
    cp_tx(m, 0, 1, OWN | EOR | FS | LS | 1u << 18 | 1u << 16 | (uint32_t)size, 1u << 17 | 0x0520, TX);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 2);
    CHECK_EQ(m->last_size, size + 4);
    CHECK_EQ(ld32be(m->last + 12), 0x81002005); /* the descriptor has the tag's bytes as they lie on the wire */
    memcpy(plain, m->last, 12);
    memcpy(plain + 12, m->last + 16, size - 12);
    CHECK(!memcmp(plain, want, size));
    memmove(f + 16, want + 12, size - 12); /* and strips it on the way in: CPCR.RxVLAN */
    memcpy(f, want, 12);
    st32be(f + 12, 0x81002005);
    CHECK_EQ(nic_give(m, f, size + 4), 1);
    CHECK_EQ(mem_ld(&m->emu, RXD, 4) & 0x3FFF, size + 4);
    CHECK_EQ(mem_ld(&m->emu, RXD + 4, 4), 1u << 16 | 0x0520);
    mem_read(&m->emu, RXB, plain, size);
    CHECK(!memcmp(plain, want, size));
    nic_free(m);
}

TEST(rtl8139_cp_segments_large_sends)
{
    struct nic *m = started_cp(0x03, 1);
    static uint8_t f[6000];
    size_t size = tcp_frame(f, 5000, false);
    mem_write(&m->emu, TX, f, size);
    cp_tx(m, 0, 0, OWN | EOR | FS | LS | 0x08000000u | 1460u << 16 | (uint32_t)size, 0, TX);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 1); /* whole, to a peer that takes it so */
    CHECK_EQ(m->last_frame.gso, NET_GSO_TCP4);
    CHECK_EQ(m->last_frame.gso_size, 1460);
    CHECK_EQ(m->last_frame.header_bytes, 54);
    CHECK_EQ(mem_ld(&m->emu, TXD, 4), EOR | FS | LS | (uint32_t)size); /* the status: no errors, no collisions, whatever the MSS was */
    m->wire.takes_gso = m->wire.takes_csum = false;
    cp_tx(m, 0, 0, OWN | EOR | FS | LS | 0x08000000u | 1460u << 16 | (uint32_t)size, 0, TX);
    out(m, TPPOLL, 0x40, 1);
    CHECK_EQ(m->frames, 5); /* 1460 * 3 + 620 */
    CHECK_EQ(m->last_size, 54 + 620);
    CHECK_EQ(ld32be(m->last + 38), 1000 + 3 * 1460);
    CHECK(!memcmp(m->last + 54, f + 54 + 3 * 1460, 620));
    CHECK_EQ(net_checksum(m->last + 14, 20, 0), 0);
    CHECK_EQ(net_checksum(m->last + 34, 640, net_checksum_fold(net_checksum_add(m->last + 26, 8, 6 + 640))), 0);
    nic_free(m);
}

TEST(rtl8139_software_interrupt)
{
    struct nic *m = started_cp(0x03, 1);
    out(m, TPPOLL, 1, 1);
    CHECK_EQ(in(m, ISR, 2) & SWINT, SWINT);
    CHECK_EQ(m->level, 1);
    nic_free(m);
}

/* Invariant 2, and any register value: neither recursion nor an end that never comes. */
TEST(rtl8139_survives_any_register_value)
{
    struct nic *m = nic_new("rtl8139");
    uint64_t x = 88172645463325252u;
    uint8_t f[1514];
    unsigned i;
    pci_write(m, 0x14, 0x10000000);
    nic_frame(f, sizeof f, "\xFF\xFF\xFF\xFF\xFF\xFF");
    for (i = 0; i < 100000; i++) {
        unsigned size = 1u << (x >> 40 & 3) & 7;
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        out(m, (unsigned)(x & 0xFF), (x >> 52 & 3) == 0 ? 0x10000000 + (uint32_t)(x >> 8 & 0xFC) : (uint32_t)(x >> 8), size ? size : 4);
        in(m, (unsigned)(x >> 42 & 0xFF), 1);
        if ((i & 31) == 0)
            nic_give(m, f, 60 + (size_t)(x >> 50) % 1455);
        if ((i & 1023) == 0)
            nic_wait(m, 1000000);
    }
    CHECK_EQ(pci_read(m, 0), 0x813910EC);
    nic_free(m);
}

TEST_MAIN(TEST_CASE(rtl8139_pci_header), TEST_CASE(rtl8139_reset_values), TEST_CASE(rtl8139_eeprom), TEST_CASE(rtl8139_configuration_is_locked), TEST_CASE(rtl8139_software_reset_keeps_addresses), TEST_CASE(rtl8139_interrupt_status_and_mask),
          TEST_CASE(rtl8139_sends_from_four_buffers), TEST_CASE(rtl8139_receives_into_the_ring), TEST_CASE(rtl8139_ring_wraps), TEST_CASE(rtl8139_largest_ring_always_wraps), TEST_CASE(rtl8139_full_ring_keeps_its_interrupt), TEST_CASE(rtl8139_full_ring_makes_the_sender_wait),
          TEST_CASE(rtl8139_filters_addresses), TEST_CASE(rtl8139_loopback), TEST_CASE(rtl8139_timer), TEST_CASE(rtl8139_cp_receives_into_descriptors),
          TEST_CASE(rtl8139_cp_goes_on_when_interrupts_are_allowed_again),
          TEST_CASE(rtl8139_cp_sends_from_descriptors), TEST_CASE(rtl8139_cp_packets_of_many_descriptors), TEST_CASE(rtl8139_cp_dumps_tally_counters), TEST_CASE(rtl8139_cp_fills_in_checksums_and_tags), TEST_CASE(rtl8139_cp_segments_large_sends), TEST_CASE(rtl8139_software_interrupt),
          TEST_CASE(rtl8139_survives_any_register_value))
