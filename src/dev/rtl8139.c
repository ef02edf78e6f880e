/* dev/rtl8139.c - Realtek RTL8139C+ fast Ethernet controller (PCI).
 *
 * Models     RTL8139C(L)+ data sheet 1.6 and RTL8139C data sheet 1.4: both the 8139's own mode (one receive ring, four transmit buffers) and C+ mode
 *            (descriptor rings, checksum and segmentation offload, VLAN tags). EEPROM: 93C46.
 * Contract   As e1000.c: a NIC of -nic, -net and -device; frames go through struct net_port.
 * Theory     8139 mode: a frame is written behind the last one in the ring, with a header of status and length; CAPR tells how far the guest has read.
 *            A write of a transmit status with OWN clear sends that buffer. C+ mode: TPPoll walks a ring of descriptors; a packet with LGSEN
 *            leaves as a super-frame. If the peer is full the walk stops and goes on in kick(); if the guest has no room the sender waits.
 * Invariants 1. INTA# is asserted exactly while ISR & IMR is not 0.
 *            2. DMA that hits this card's own registers finds busy set and does nothing.
 *            3. While a sender waits for room in the 8139's ring and the ring holds frames, ROK stays set: a driver that clears ISR first and reads
 *               later would wait for the next frame, which waits for it. As ne2k.c's invariant 3.
 * Missing    Wake-up, flash, MII beyond the basic registers. FCS bytes given to the guest are zero. Early receive and transmit thresholds.
 */
#include "../machine.h"
#include "../net/net.h"
#include "dev.h"

enum {
    RTL_IDR = 0x00, RTL_MAR = 0x08, RTL_TSD = 0x10, RTL_TSAD = 0x20, RTL_RBSTART = 0x30, RTL_CR = 0x37, RTL_CAPR = 0x38, RTL_CBR = 0x3A, RTL_IMR = 0x3C, RTL_ISR = 0x3E,
    RTL_TCR = 0x40, RTL_RCR = 0x44, RTL_TCTR = 0x48, RTL_MPC = 0x4C, RTL_9346CR = 0x50, RTL_CONFIG0 = 0x51, RTL_CONFIG1 = 0x52, RTL_TIMERINT = 0x54, RTL_MSR = 0x58,
    RTL_CONFIG3 = 0x59, RTL_CONFIG4 = 0x5A, RTL_MULINT = 0x5C, RTL_RERID = 0x5E, RTL_TSAD_ALL = 0x60, RTL_BMCR = 0x62, RTL_BMSR = 0x64, RTL_ANAR = 0x66, RTL_ANLPAR = 0x68, RTL_ANER = 0x6A,
    RTL_CSCR = 0x74, RTL_PHY_PARM = 0x78, RTL_CONFIG5 = 0xD8, RTL_TPPOLL = 0xD9, RTL_CPCR = 0xE0, RTL_RDSAR = 0xE4, RTL_ETTHR = 0xEC, RTL_REGISTERS = 256,
    RTL_CR_BUFE = 1, RTL_CR_TE = 4, RTL_CR_RE = 8, RTL_CR_RST = 0x10,
    RTL_ISR_ROK = 1, RTL_ISR_TOK = 4, RTL_ISR_RXOVW = 0x10, RTL_ISR_LINK = 0x20, RTL_ISR_TDU = 0x80, RTL_ISR_SWINT = 0x100, RTL_ISR_TIMEOUT = 0x4000,
    RTL_RCR_AAP = 1, RTL_RCR_APM = 2, RTL_RCR_AM = 4, RTL_RCR_AB = 8, RTL_RCR_WRAP = 0x80,
    RTL_TSD_OWN = 0x2000, RTL_TSD_TOK = 0x8000,
    RTL_DTCCR = 0x10, RTL_DTCCR_CMD = 8, RTL_TALLY_BYTES = 64, /* in C+ mode, where TSD is else */
    RTL_CPCR_TX = 1, RTL_CPCR_RX = 2, RTL_CPCR_RXCSUM = 0x20, RTL_CPCR_RXVLAN = 0x40,
    RTL_HW_VERSION = 0x74800000, /* of the C+ in TCR */
    RTL_RX_BAR = 0x2000, RTL_RX_PAM = 0x4000, RTL_RX_MAR = 0x8000, RTL_RX_ROK = 1,
    RTL_FRAME_MAX = 8192, RTL_TX_MAX = 65536 + 256, RTL_FCS = 4, RTL_MIN_FRAME = 60, RTL_ROOM = 4, RTL_CP_TX_RING = 64 /* descriptors; no packet has more */
};
#define RTL_CP_OWN 0x80000000u
#define RTL_CP_EOR 0x40000000u
#define RTL_CP_FS 0x20000000u
#define RTL_CP_LS 0x10000000u
#define RTL_CP_LGSEN 0x08000000u
#define RTL_CP_TX_STATUS 0x0FFF0000u /* what asked for offloads comes back as errors and collisions: none */
#define RTL_CP_TES 0x00800000u       /* transmit error summary */
#define RTL_CP_TAG 0x00020000u   /* transmit: TAGC */
#define RTL_CP_RXTAG 0x00010000u /* receive: TAVA */

struct rtl8139 {
    struct pci_device pci;
    struct net_port port;
    uint8_t mac[6];
    uint8_t reg[RTL_REGISTERS];
    struct eeprom93 rom;
    bool config_write;
    /* 8139 mode */
    uint32_t tsd[4], tsad[4], rbstart;
    bool waiting[4]; /* written, not sent: the peer is full */
    unsigned tx_next;
    uint32_t cbr, capr;
    /* C+ mode: positions in the rings */
    uint64_t tx_base[2], rx_base;
    uint32_t tx_at[2], rx_at;
    bool tx_lost[2]; /* the rest of a packet of too many descriptors is still to come */
    struct {
        uint64_t tx_ok, rx_ok, rx_physical, rx_broadcast;
        uint32_t rx_multicast;
        uint16_t rx_missed;
    } tally; /* frames, from reset on */
    uint8_t *flat; /* a packet being gathered; RTL_ROOM + RTL_TX_MAX bytes */
    uint8_t *rx_flat;
    struct timer timer;
    int64_t timer_start_ns;
    bool busy;    /* DMA under way */
    bool sending; /* a packet is on its way: kick() must not start over */
    bool wants_kick;
};

#define RTL_16(d, r) ld16le((d)->reg + (r))
#define RTL_32(d, r) ld32le((d)->reg + (r))

static void rtl_update_irq(struct rtl8139 *d) { pci_set_intx(&d->pci, (RTL_16(d, RTL_ISR) & RTL_16(d, RTL_IMR)) != 0); }

static void rtl_cause(struct rtl8139 *d, unsigned bits)
{
    st16le(d->reg + RTL_ISR, (uint16_t)(RTL_16(d, RTL_ISR) | bits));
    rtl_update_irq(d);
}

static bool rtl_link_up(const struct rtl8139 *d) { return !d->port.link_down && (!d->port.peer || !d->port.peer->link_down); }
static void rtl_link_changed(struct net_port *p) { rtl_cause(p->opaque, RTL_ISR_LINK); }

/* Data sheet of the C+: the tally counters' block. No errors or collisions happen here. */
static void rtl_dump_tally(struct rtl8139 *d)
{
    uint8_t block[RTL_TALLY_BYTES] = { 0 };
    uint64_t gpa = ld64le(d->reg + RTL_DTCCR) & ~UINT64_C(63);
    d->reg[RTL_DTCCR] &= (uint8_t)~RTL_DTCCR_CMD;
    if (d->busy || !pci_bus_master(&d->pci))
        return;
    st64le(block, d->tally.tx_ok);
    st64le(block + 8, d->tally.rx_ok);
    st16le(block + 28, d->tally.rx_missed);
    st64le(block + 40, d->tally.rx_physical);
    st64le(block + 48, d->tally.rx_broadcast);
    st32le(block + 56, d->tally.rx_multicast);
    d->busy = true;
    dma_write(d->pci.dev.emu, gpa, block, sizeof block);
    d->busy = false;
}

/* ---- receive ---- */

static bool rtl_cp_rx(const struct rtl8139 *d) { return (d->reg[RTL_CPCR] & RTL_CPCR_RX) != 0; }
static bool rtl_rx_on(const struct rtl8139 *d) { return (d->reg[RTL_CR] & RTL_CR_RE) && pci_bus_master(&d->pci); }
static uint32_t rtl_ring_bytes(const struct rtl8139 *d) { return 8192u << ((d->reg[RTL_RCR + 1] >> 3) & 3); }

/* Free bytes of the 8139's ring. */
static uint32_t rtl_ring_free(const struct rtl8139 *d)
{
    uint32_t n = rtl_ring_bytes(d), used = (d->cbr - d->capr) & (n - 1);
    return n - used;
}

static bool rtl_rx_room(struct rtl8139 *d)
{
    if (rtl_cp_rx(d))
        return (mem_ld(d->pci.dev.emu, d->rx_base + d->rx_at * 16u, 4) & RTL_CP_OWN) != 0;
    return rtl_ring_free(d) > 1536 + 16;
}

/* 0: not for us; else the status bits of the 8139's packet header. */
static unsigned rtl_match(const struct rtl8139 *d, const uint8_t *f)
{
    unsigned rcr = d->reg[RTL_RCR], i, bit;
    uint32_t crc = 0xFFFFFFFFu;
    if (ld32be(f) == 0xFFFFFFFFu && ld16be(f + 4) == 0xFFFF)
        return rcr & (RTL_RCR_AB | RTL_RCR_AAP) ? RTL_RX_BAR | RTL_RX_ROK : 0;
    if (f[0] & 1) {
        if (rcr & RTL_RCR_AAP)
            return RTL_RX_MAR | RTL_RX_ROK;
        if (!(rcr & RTL_RCR_AM))
            return 0;
        for (i = 0; i < 6; i++) /* the upper six bits of the Ethernet CRC choose one of 64 */
            for (bit = 0; bit < 8; bit++) {
                bool out = ((crc >> 31) ^ (uint32_t)(f[i] >> bit)) & 1;
                crc <<= 1;
                if (out)
                    crc ^= 0x04C11DB7u;
            }
        crc >>= 26;
        return (d->reg[RTL_MAR + crc / 8] >> (crc & 7)) & 1 ? RTL_RX_MAR | RTL_RX_ROK : 0;
    }
    if (!memcmp(f, d->reg + RTL_IDR, 6))
        return rcr & (RTL_RCR_APM | RTL_RCR_AAP) ? RTL_RX_PAM | RTL_RX_ROK : 0;
    return rcr & RTL_RCR_AAP ? RTL_RX_ROK : 0;
}

static void rtl_ring_put(struct rtl8139 *d, const void *bytes, size_t size, bool may_overrun)
{
    struct emu *e = d->pci.dev.emu;
    uint32_t n = rtl_ring_bytes(d), first = (uint32_t)EMU_MIN(size, (size_t)(n - d->cbr));
    if (may_overrun) /* RCR.WRAP: the guest keeps room behind the ring's end */
        first = (uint32_t)size;
    dma_write(e, (uint64_t)d->rbstart + d->cbr, bytes, first);
    if (first < size)
        dma_write(e, d->rbstart, (const uint8_t *)bytes + first, size - first);
    d->cbr = (d->cbr + (uint32_t)size) & (n - 1);
}

/* One frame has reached the guest; status: rtl_match's. */
static void rtl_count_received(struct rtl8139 *d, unsigned status)
{
    d->tally.rx_ok++;
    d->tally.rx_physical += (status & RTL_RX_PAM) != 0;
    d->tally.rx_broadcast += (status & RTL_RX_BAR) != 0;
    d->tally.rx_multicast += (status & RTL_RX_MAR) != 0;
}

static bool rtl_ring_rx(struct rtl8139 *d, const uint8_t *f, size_t size, unsigned status)
{
    uint8_t header[4], tail[8] = { 0 };
    bool overrun = (d->reg[RTL_RCR] & RTL_RCR_WRAP) && rtl_ring_bytes(d) < 65536; /* the largest ring always wraps */
    size_t padding = (4 - (size & 3)) & 3;
    if (rtl_ring_free(d) <= size + 4 + RTL_FCS + 16)
        return false;
    st16le(header, (uint16_t)status);
    st16le(header + 2, (uint16_t)(size + RTL_FCS));
    if (overrun && d->cbr + 4 + size + 8 > rtl_ring_bytes(d)) { /* in one piece over the end */
        memmove(d->rx_flat + 4, f, size);
        memcpy(d->rx_flat, header, 4);
        memset(d->rx_flat + 4 + size, 0, RTL_FCS + padding);
        rtl_ring_put(d, d->rx_flat, 4 + size + RTL_FCS + padding, true);
    } else {
        rtl_ring_put(d, header, 4, false);
        rtl_ring_put(d, f, size, false);
        rtl_ring_put(d, tail, RTL_FCS + padding, false);
    }
    rtl_count_received(d, status);
    return true;
}

/* C+ receive status: protocol found and which checksums failed. Frames of csum_valid senders are right; others are summed. */
static uint32_t rtl_cp_checksums(const struct rtl8139 *d, const uint8_t *f, size_t size, bool vouched)
{
    size_t header, total;
    uint32_t result, sum;
    uint8_t proto;
    if (!(d->reg[RTL_CPCR] & RTL_CPCR_RXCSUM) || size < 34 || ld16be(f + 12) != 0x0800 || (f[14] >> 4) != 4)
        return 0;
    header = (size_t)(f[14] & 15) * 4;
    total = ld16be(f + 16);
    if (header < 20 || total < header || 14 + total > size)
        return 0;
    proto = f[23];
    result = 3u << 16; /* IP */
    if (!vouched && net_checksum(f + 14, header, 0))
        result |= 1u << 15;
    if ((ld16be(f + 20) & 0x3FFF) || (proto != 6 && proto != 17) || total - header < (proto == 6 ? 20u : 8u))
        return result;
    result = (result & 0x8000) | (proto == 6 ? 1u << 16 : 2u << 16);
    sum = net_checksum_add(f + 26, 8, proto + (uint32_t)(total - header));
    if (!vouched && !(proto == 17 && !ld16be(f + 14 + header + 6)) && net_checksum(f + 14 + header, total - header, net_checksum_fold(sum)))
        result |= proto == 6 ? 1u << 13 : 1u << 14;
    return result;
}

static bool rtl_cp_receive(struct rtl8139 *d, const uint8_t *f, size_t size, unsigned status, bool vouched)
{
    struct emu *e = d->pci.dev.emu;
    uint64_t at = d->rx_base + d->rx_at * 16u;
    uint8_t desc[16], back[8];
    uint32_t dw0, out, tag = 0;
    dma_read(e, at, desc, sizeof desc);
    dw0 = ld32le(desc);
    if (!(dw0 & RTL_CP_OWN))
        return false;
    out = RTL_CP_FS | RTL_CP_LS | (dw0 & RTL_CP_EOR) | rtl_cp_checksums(d, f, size, vouched);
    out |= status & RTL_RX_MAR ? 1u << 26 : status & RTL_RX_BAR ? 1u << 24 : 1u << 25;
    if ((d->reg[RTL_CPCR] & RTL_CPCR_RXVLAN) && ld16be(f + 12) == 0x8100 && size >= 18) {
        tag = RTL_CP_RXTAG | ld16le(f + 14); /* as it lay on the wire */
        memmove(d->rx_flat, f, 12);
        memmove(d->rx_flat + 12, f + 16, size - 16);
        f = d->rx_flat;
        size -= 4;
    }
    if (size + RTL_FCS > (dw0 & 0x1FFF)) { /* does not fit: lost, as the data sheet's overflow */
        d->tally.rx_missed++;
        rtl_cause(d, RTL_ISR_RXOVW);
        return true;
    }
    dma_write(e, ld64le(desc + 8), f, size);
    memset(back, 0, 4);
    dma_write(e, ld64le(desc + 8) + size, back, RTL_FCS);
    st32le(back, out | (uint32_t)(size + RTL_FCS));
    st32le(back + 4, tag);
    dma_write(e, at + 4, back + 4, 4);
    dma_write(e, at, back, 4);
    d->rx_at = dw0 & RTL_CP_EOR ? 0 : d->rx_at + 1;
    rtl_count_received(d, status);
    return true;
}

/* A sender has to wait (keeps invariant 3). */
static void rtl_rx_wait(struct rtl8139 *d)
{
    d->wants_kick = true;
    if (rtl_rx_on(d) && !rtl_cp_rx(d) && d->cbr != d->capr)
        rtl_cause(d, RTL_ISR_ROK);
}

static bool rtl_can_receive(struct net_port *p)
{
    struct rtl8139 *d = p->opaque;
    if (!rtl_rx_on(d) || rtl_rx_room(d))
        return true;
    rtl_rx_wait(d);
    return false;
}

static int rtl_take(struct rtl8139 *d, const struct net_frame *frame, bool looped)
{
    const uint8_t *f = frame->pieces[0].base;
    size_t size = frame->size;
    unsigned status;
    bool taken;
    if (!rtl_rx_on(d) || d->busy || size < 14 || size > RTL_FRAME_MAX - 64)
        return 1;
    if (frame->count > 1 || size < RTL_MIN_FRAME) {
        net_frame_copy(frame, 0, d->rx_flat, size);
        if (size < RTL_MIN_FRAME) {
            memset(d->rx_flat + size, 0, RTL_MIN_FRAME - size);
            size = RTL_MIN_FRAME;
        }
        f = d->rx_flat;
    }
    status = rtl_match(d, f);
    if (!status)
        return 1;
    d->busy = true;
    taken = rtl_cp_rx(d) ? rtl_cp_receive(d, f, size, status, frame->csum_valid) : rtl_ring_rx(d, f, size, status);
    d->busy = false;
    if (taken) {
        rtl_cause(d, RTL_ISR_ROK);
    } else if (looped) {
        d->tally.rx_missed++;
        rtl_cause(d, RTL_ISR_RXOVW);
    } else {
        rtl_rx_wait(d);
    }
    return taken || looped;
}

static int rtl_receive(struct net_port *p, const struct net_frame *f) { return rtl_take(p->opaque, f, false); }

static void rtl_rx_resume(struct rtl8139 *d)
{
    if (d->wants_kick && !d->busy && (!rtl_rx_on(d) || rtl_rx_room(d))) {
        d->wants_kick = false;
        net_kick_peer(&d->port);
    }
}

/* ---- transmit ---- */

static int rtl_looped_frame(void *opaque, const struct net_frame *f) { return rtl_take(opaque, f, true); }

static int rtl_output(struct rtl8139 *d, const struct net_frame *f)
{
    if ((d->reg[RTL_TCR + 2] & 6) == 6) { /* TCR.LBK */
        if (f->gso != NET_GSO_NONE || f->needs_csum)
            net_frame_cut(d->pci.dev.emu, f, rtl_looped_frame, d);
        else
            rtl_take(d, f, true);
        return 1;
    }
    return net_send(&d->port, f);
}

static void rtl_count_sent(struct rtl8139 *d, const struct net_frame *f)
{
    d->tally.tx_ok += f->gso != NET_GSO_NONE ? (f->size - f->header_bytes + f->gso_size - 1) / f->gso_size : 1;
}

static int rtl_send_flat(struct rtl8139 *d, uint8_t *bytes, size_t size, struct net_frame *f)
{
    struct host_iov piece;
    if (size < RTL_MIN_FRAME) {
        memset(bytes + size, 0, RTL_MIN_FRAME - size);
        size = RTL_MIN_FRAME;
    }
    piece.base = bytes;
    piece.size = size;
    f->pieces = &piece;
    f->count = 1;
    f->size = size;
    if (!rtl_output(d, f))
        return 0;
    rtl_count_sent(d, f);
    return 1;
}

/* 8139 mode: sends the waiting buffers in their order. */
static void rtl_tx_run(struct rtl8139 *d)
{
    unsigned n;
    if (d->busy || d->sending || !(d->reg[RTL_CR] & RTL_CR_TE) || !pci_bus_master(&d->pci))
        return;
    d->sending = true;
    for (n = 0; n < 4 && d->waiting[d->tx_next]; n++) {
        unsigned i = d->tx_next;
        size_t size = d->tsd[i] & 0x1FFF;
        struct net_frame f;
        memset(&f, 0, sizeof f);
        d->busy = true;
        dma_read(d->pci.dev.emu, d->tsad[i], d->flat, size);
        d->busy = false;
        if (size >= 14 && !rtl_send_flat(d, d->flat, size, &f))
            break;
        d->waiting[i] = false;
        d->tsd[i] |= RTL_TSD_OWN | RTL_TSD_TOK;
        d->tx_next = (i + 1) & 3;
        rtl_cause(d, RTL_ISR_TOK);
    }
    d->sending = false;
}

/* What a C+ descriptor asks for beside sending. */
static void rtl_cp_offload(struct rtl8139 *d, uint8_t *bytes, size_t size, uint32_t dw0, struct net_frame *f)
{
    size_t l4, header;
    uint32_t mss = (dw0 >> 16) & 0x7FF, sum;
    bool lgsen = (dw0 & RTL_CP_LGSEN) != 0;
    unsigned proto;
    (void)d;
    if (!lgsen && !(dw0 & 0x70000))
        return;
    if (size < 34 || ld16be(bytes + 12) != 0x0800 || (bytes[14] >> 4) != 4)
        return;
    l4 = 14 + (size_t)(bytes[14] & 15) * 4;
    proto = bytes[23];
    if (l4 < 34 || l4 + (proto == 6 ? 20u : 8u) > size)
        return;
    if (lgsen || (dw0 & 1 << 18)) {
        st16be(bytes + 24, 0);
        st16be(bytes + 24, net_checksum(bytes + 14, l4 - 14, 0));
    }
    if (!(proto == 6 && (lgsen || (dw0 & 1 << 16))) && !(proto == 17 && (dw0 & 1 << 17) && !lgsen))
        return;
    /* the field gets the pseudo header's sum; whoever needs the checksum adds the rest */
    sum = net_checksum_add(bytes + 26, 8, proto + (uint32_t)(EMU_MIN((size_t)ld16be(bytes + 16) + 14, size) - l4));
    f->needs_csum = true;
    f->csum_start = (uint16_t)l4;
    f->csum_offset = proto == 6 ? 16 : 6;
    st16be(bytes + l4 + f->csum_offset, net_checksum_fold(sum));
    header = l4 + (size_t)(bytes[l4 + 12] >> 4) * 4;
    if (lgsen && proto == 6 && mss && header >= l4 + 20 && header < size && size - header > mss && header <= 256) {
        f->gso = NET_GSO_TCP4;
        f->gso_size = (uint16_t)mss;
        f->header_bytes = (uint16_t)header;
    }
}

/* C+ mode: one packet of a ring. 0: nothing there, 1: sent or lost, -1: the peer is full. A packet of more descriptors than the ring may have is lost. */
static int rtl_cp_packet(struct rtl8139 *d, unsigned ring)
{
    struct emu *e = d->pci.dev.emu;
    uint32_t at = d->tx_at[ring], first = 0, tag = 0, dw0 = 0, i, end = at, used[RTL_CP_TX_RING];
    size_t size = 0;
    uint8_t desc[16], *bytes = d->flat + RTL_ROOM;
    struct net_frame f;
    unsigned n = 0;
    bool lost = false;
    do { /* gather; nothing is given back before the packet is gone */
        uint32_t part;
        if (n == RTL_CP_TX_RING || (n && end == at)) {
            lost = true;
            break;
        }
        dma_read(e, d->tx_base[ring] + end * 16u, desc, sizeof desc);
        dw0 = ld32le(desc);
        if (!(dw0 & RTL_CP_OWN))
            return 0;
        if (!n) {
            if (dw0 & RTL_CP_FS)
                d->tx_lost[ring] = false;
            first = dw0;
            tag = ld32le(desc + 4);
        }
        part = dw0 & 0xFFFF;
        if (size + part > RTL_TX_MAX)
            part = (uint32_t)(RTL_TX_MAX - size);
        dma_read(e, ld64le(desc + 8), bytes + size, part);
        size += part;
        used[n++] = end;
        end = dw0 & RTL_CP_EOR ? 0 : end + 1;
    } while (!(dw0 & RTL_CP_LS));
    memset(&f, 0, sizeof f);
    if (size >= 14 && !lost && !d->tx_lost[ring]) {
        rtl_cp_offload(d, bytes, size, first, &f);
        if (tag & RTL_CP_TAG) {
            memmove(bytes - 4, bytes, 12);
            bytes -= 4;
            size += 4;
            st16be(bytes + 12, 0x8100);
            st16le(bytes + 14, (uint16_t)tag);
            f.csum_start = (uint16_t)(f.csum_start + 4);
            f.header_bytes = (uint16_t)(f.header_bytes + (f.gso ? 4 : 0));
        }
        d->busy = false;
        i = (uint32_t)rtl_send_flat(d, bytes, size, &f);
        d->busy = true;
        if (!i)
            return -1;
    }
    for (i = 0; i < n; i++) {
        uint64_t where = d->tx_base[ring] + used[i] * 16u;
        mem_st(e, where, (mem_ld(e, where, 4) & ~(RTL_CP_OWN | RTL_CP_TX_STATUS)) | (lost || d->tx_lost[ring] ? RTL_CP_TES : 0), 4);
    }
    d->tx_lost[ring] = lost;
    d->tx_at[ring] = end;
    return 1;
}

static void rtl_cp_tx_run(struct rtl8139 *d, unsigned ring)
{
    unsigned budget;
    int r = 0;
    bool any = false;
    if (d->busy || d->sending || !(d->reg[RTL_CR] & RTL_CR_TE) || !(d->reg[RTL_CPCR] & RTL_CPCR_TX) || !pci_bus_master(&d->pci))
        return;
    d->busy = d->sending = true;
    for (budget = 0; budget < 4 * RTL_CP_TX_RING && (r = rtl_cp_packet(d, ring)) > 0; budget++)
        any = true;
    d->busy = d->sending = false;
    d->waiting[ring] = r < 0;
    if (any)
        rtl_cause(d, RTL_ISR_TOK | (r == 0 ? RTL_ISR_TDU : 0));
}

static void rtl_kick(struct net_port *p)
{
    struct rtl8139 *d = p->opaque;
    if (!(d->reg[RTL_CPCR] & RTL_CPCR_TX)) {
        rtl_tx_run(d);
        return;
    }
    if (d->waiting[1])
        rtl_cp_tx_run(d, 1);
    if (d->waiting[0])
        rtl_cp_tx_run(d, 0);
}

/* ---- registers ---- */

static void rtl_reset_chip(struct rtl8139 *d)
{
    /* CR.RST leaves IDR and MAR as they are */
    memset(d->reg + RTL_IDR + 6, 0, RTL_MAR - RTL_IDR - 6);
    memset(d->reg + RTL_MAR + 8, 0, sizeof d->reg - RTL_MAR - 8);
    d->reg[RTL_CR] = RTL_CR_BUFE;
    st32le(d->reg + RTL_TCR, RTL_HW_VERSION);
    d->reg[RTL_CONFIG0] = 0x10;
    d->reg[RTL_CONFIG1] = 0x0C;
    d->reg[RTL_CONFIG3] = 0x01;
    st16le(d->reg + RTL_BMCR, 0x3100);
    st16le(d->reg + RTL_ANAR, 0x05E1);
    st16le(d->reg + RTL_CSCR, 0x03C0);
    memset(d->tsd, 0, sizeof d->tsd);
    memset(d->tsad, 0, sizeof d->tsad);
    memset(d->waiting, 0, sizeof d->waiting);
    d->tsd[0] = d->tsd[1] = d->tsd[2] = d->tsd[3] = RTL_TSD_OWN;
    d->tx_next = 0;
    d->rbstart = 0;
    d->cbr = d->capr = 0;
    d->tx_at[0] = d->tx_at[1] = d->rx_at = 0;
    d->tx_lost[0] = d->tx_lost[1] = false;
    d->tx_base[0] = d->tx_base[1] = d->rx_base = 0;
    d->config_write = false;
    timer_cancel(&d->timer);
    d->timer_start_ns = emu_now_ns(d->pci.dev.emu);
    rtl_update_irq(d);
    if (d->wants_kick) {
        d->wants_kick = false;
        net_kick_peer(&d->port);
    }
}

/* TCTR counts the 33 MHz PCI clock; TimerInt is the count at which it raises an interrupt. */
static uint32_t rtl_timer_count(const struct rtl8139 *d)
{
    return (uint32_t)muldiv64((uint64_t)(emu_now_ns(d->pci.dev.emu) - d->timer_start_ns), 33, 1000);
}

static void rtl_timer_arm(struct rtl8139 *d)
{
    uint32_t at = RTL_32(d, RTL_TIMERINT);
    uint64_t ticks = (uint32_t)(at - rtl_timer_count(d)); /* 0: it is there now, and comes again a whole round later */
    timer_cancel(&d->timer);
    if (at) /* one more ns: never before the tick, which would fire again at once */
        timer_arm(&d->timer, emu_now_ns(d->pci.dev.emu) + (int64_t)muldiv64(ticks ? ticks : UINT64_C(1) << 32, 1000, 33) + 1);
}

static void rtl_timer_fired(void *opaque)
{
    rtl_cause(opaque, RTL_ISR_TIMEOUT);
    rtl_timer_arm(opaque);
}

static uint16_t rtl_tsad_all(const struct rtl8139 *d)
{
    unsigned i, v = 0;
    for (i = 0; i < 4; i++)
        v |= (d->tsd[i] & RTL_TSD_TOK ? 0x1000u << i : 0) | (d->tsd[i] & RTL_TSD_OWN ? 1u << i : 0);
    return (uint16_t)v;
}

static uint8_t rtl_read8(struct rtl8139 *d, unsigned r)
{
    bool cp = (d->reg[RTL_CPCR] & (RTL_CPCR_TX | RTL_CPCR_RX)) != 0, up = rtl_link_up(d);
    if (r >= RTL_TSD && r < RTL_TSD + 16 && !cp)
        return (uint8_t)(d->tsd[(r - RTL_TSD) / 4] >> (8 * (r & 3)));
    if (r >= RTL_TSAD && r < RTL_TSAD + 16 && !cp)
        return (uint8_t)(d->tsad[(r - RTL_TSAD) / 4] >> (8 * (r & 3)));
    switch (r) {
    case RTL_RBSTART: case RTL_RBSTART + 1: case RTL_RBSTART + 2: case RTL_RBSTART + 3: return (uint8_t)(d->rbstart >> (8 * (r & 3)));
    case RTL_CR: return (uint8_t)((d->reg[RTL_CR] & ~RTL_CR_BUFE) | (rtl_cp_rx(d) || d->cbr == d->capr ? RTL_CR_BUFE : 0));
    case RTL_CAPR: return (uint8_t)(d->capr - 16);
    case RTL_CAPR + 1: return (uint8_t)((d->capr - 16) >> 8);
    case RTL_CBR: return (uint8_t)d->cbr;
    case RTL_CBR + 1: return (uint8_t)(d->cbr >> 8);
    case RTL_TCTR: case RTL_TCTR + 1: case RTL_TCTR + 2: case RTL_TCTR + 3: return (uint8_t)(rtl_timer_count(d) >> (8 * (r & 3)));
    case RTL_9346CR: return (uint8_t)((d->reg[RTL_9346CR] & ~1u) | (d->rom.data_out ? 1 : 0));
    case RTL_MSR: return (uint8_t)((d->reg[RTL_MSR] & 0xC0) | (up ? 0 : 4) | 0x10);
    case RTL_RERID: return 0x10;
    case RTL_TSAD_ALL: return (uint8_t)rtl_tsad_all(d);
    case RTL_TSAD_ALL + 1: return (uint8_t)(rtl_tsad_all(d) >> 8);
    case RTL_BMSR: return up ? 0x2D : 0x09;
    case RTL_BMSR + 1: return 0x78;
    case RTL_ANLPAR: return up ? 0xE1 : 0;
    case RTL_ANLPAR + 1: return up ? 0x45 : 0;
    case RTL_ANER: return up ? 1 : 0;
    default: return d->reg[r];
    }
}

static uint64_t rtl_read(void *opaque, uint64_t offset, unsigned size)
{
    uint64_t v = 0;
    unsigned i;
    for (i = 0; i < size; i++)
        v |= (uint64_t)rtl_read8(opaque, (unsigned)(offset + i) & 0xFF) << (8 * i);
    return v;
}

static void rtl_set_byte(uint32_t *word, unsigned byte, uint8_t v) { *word = (*word & ~(0xFFu << (8 * byte))) | (uint32_t)v << (8 * byte); }

/* Registers that are plain storage. Others must not keep what is written: iPXE tells the 8169 from this chip by a register at DAh. */
static bool rtl_is_storage(const struct rtl8139 *d, unsigned r)
{
    if (r < RTL_IDR + 6)
        return d->config_write;
    return (r >= RTL_MAR && r < RTL_MAR + 8) || (r >= RTL_TSD && r < RTL_TSD + 8) || (r >= RTL_IMR && r < RTL_IMR + 2) || (r >= RTL_TCR && r < RTL_RCR + 4) ||
           (r >= RTL_TIMERINT && r < RTL_TIMERINT + 4) || r == RTL_MSR || (r >= RTL_MULINT && r < RTL_MULINT + 2) || r == RTL_BMCR ||
           (r >= RTL_ANAR && r < RTL_ANAR + 2) || (r >= RTL_CSCR && r < RTL_CSCR + 2) || (r >= RTL_PHY_PARM && r < RTL_PHY_PARM + 8) || r == RTL_CONFIG5 ||
           (r >= RTL_CPCR && r < RTL_CPCR + 2) || r == RTL_ETTHR;
}

static void rtl_write8(struct rtl8139 *d, unsigned r, uint8_t v)
{
    switch (r) {
    case RTL_CR:
        if (v & RTL_CR_RST) {
            rtl_reset_chip(d);
            return;
        }
        if (!(d->reg[RTL_CR] & RTL_CR_TE) && (v & RTL_CR_TE)) {
            d->tx_at[0] = d->tx_at[1] = d->tx_next = 0;
            d->tx_lost[0] = d->tx_lost[1] = false;
        }
        if (!(d->reg[RTL_CR] & RTL_CR_RE) && (v & RTL_CR_RE)) {
            d->rx_at = 0;
            d->cbr = d->capr = 0;
        }
        d->reg[RTL_CR] = v & (RTL_CR_RE | RTL_CR_TE);
        rtl_rx_resume(d);
        return;
    case RTL_9346CR:
        d->config_write = (v & 0xC0) == 0xC0;
        if ((v & 0xC0) == 0x40) { /* autoload */
            memcpy(d->reg + RTL_IDR, d->mac, 6);
            v &= 0x3F;
        }
        eeprom93_pins(&d->rom, (v & 0xC8) == 0x88, (v & 4) != 0, (v & 2) != 0);
        d->reg[r] = v & 0xCE;
        return;
    case RTL_TPPOLL:
        if (v & 1)
            rtl_cause(d, RTL_ISR_SWINT);
        if (v & 0x80)
            rtl_cp_tx_run(d, 1);
        if (v & 0x40)
            rtl_cp_tx_run(d, 0);
        return;
    case RTL_CPCR:
        d->reg[r] = v;
        rtl_rx_resume(d);
        return;
    case RTL_BMCR + 1:
        if (v & 2) /* restart negotiation: done at once */
            rtl_cause(d, RTL_ISR_LINK);
        d->reg[r] = v & 0x31;
        return;
    case RTL_MPC: case RTL_MPC + 1: case RTL_MPC + 2: d->reg[RTL_MPC] = d->reg[RTL_MPC + 1] = d->reg[RTL_MPC + 2] = 0; return;
    case RTL_CBR: case RTL_CBR + 1: case RTL_RERID: case RTL_TSAD_ALL: case RTL_TSAD_ALL + 1: case RTL_BMSR: case RTL_BMSR + 1: case RTL_ANLPAR: case RTL_ANLPAR + 1: return;
    case RTL_CONFIG0: case RTL_CONFIG1: case RTL_CONFIG3: case RTL_CONFIG4:
        if (d->config_write)
            d->reg[r] = v;
        return;
    default: break;
    }
    if (r >= RTL_RDSAR && r < RTL_RDSAR + 8) {
        d->reg[r] = v;
        d->rx_base = ld64le(d->reg + RTL_RDSAR) & ~UINT64_C(0xFF);
        d->rx_at = 0;
        return;
    }
    if (rtl_is_storage(d, r))
        d->reg[r] = v;
}

static void rtl_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct rtl8139 *d = opaque;
    unsigned r = (unsigned)offset & 0xFF, i;
    bool cp = (d->reg[RTL_CPCR] & (RTL_CPCR_TX | RTL_CPCR_RX)) != 0;
    if (r >= RTL_TSD && r + size <= RTL_TSAD && !cp) {
        unsigned n = (r - RTL_TSD) / 4;
        for (i = 0; i < size; i++)
            rtl_set_byte(&d->tsd[n], (r + i) & 3, (uint8_t)(value >> (8 * i)));
        if (size == 4 || (r & 3) == 2) {
            d->tsd[n] &= 0x003F3FFFu;
            if (!(d->tsd[n] & RTL_TSD_OWN)) {
                d->waiting[n] = true;
                rtl_tx_run(d);
            }
        }
        return;
    }
    if (r >= RTL_TSAD && r + size <= RTL_RBSTART) { /* in C+ mode the rings' bases; drivers may set them before they switch */
        for (i = 0; i < size; i++) {
            rtl_set_byte(&d->tsad[(r - RTL_TSAD) / 4], (r + i) & 3, (uint8_t)(value >> (8 * i)));
            d->reg[r + i] = (uint8_t)(value >> (8 * i));
        }
        d->tx_base[0] = ld64le(d->reg + RTL_TSAD) & ~UINT64_C(0xFF);
        d->tx_base[1] = ld64le(d->reg + RTL_TSAD + 8) & ~UINT64_C(0xFF);
        return;
    }
    if (r >= RTL_RBSTART && r + size <= RTL_RBSTART + 4) {
        for (i = 0; i < size; i++)
            rtl_set_byte(&d->rbstart, (r + i) & 3, (uint8_t)(value >> (8 * i)));
        d->cbr = d->capr = 0;
        return;
    }
    if (r == RTL_CAPR && size >= 2) {
        d->capr = (uint32_t)((value + 16) & (rtl_ring_bytes(d) - 1));
        rtl_rx_resume(d);
        return;
    }
    if (r == RTL_ISR || r == RTL_ISR + 1) { /* ones clear */
        unsigned shift = r == RTL_ISR ? 0 : 8, mask = size == 1 ? 0xFFu : 0xFFFFu;
        st16le(d->reg + RTL_ISR, (uint16_t)(RTL_16(d, RTL_ISR) & ~(((unsigned)value & mask) << shift)));
        rtl_update_irq(d);
        rtl_rx_resume(d);
        if (d->wants_kick)
            rtl_rx_wait(d);
        return;
    }
    if (r == RTL_IMR && size == 4) { /* both in one store */
        rtl_write(d, RTL_IMR, value & 0xFFFF, 2);
        rtl_write(d, RTL_ISR, value >> 16, 2);
        return;
    }
    if (r == RTL_TCTR) {
        d->timer_start_ns = emu_now_ns(d->pci.dev.emu);
        rtl_timer_arm(d);
        return;
    }
    for (i = 0; i < size; i++)
        rtl_write8(d, (r + i) & 0xFF, (uint8_t)(value >> (8 * i)));
    if (r == RTL_DTCCR && cp && (d->reg[r] & RTL_DTCCR_CMD))
        rtl_dump_tally(d);
    if (r == RTL_TCR)
        st32le(d->reg + RTL_TCR, (RTL_32(d, RTL_TCR) & 0x03060FF0u) | RTL_HW_VERSION);
    if (r == RTL_TIMERINT)
        rtl_timer_arm(d);
    if (r == RTL_IMR) {
        rtl_update_irq(d);
        rtl_rx_resume(d); /* in C+ mode no register tells of descriptors given back: drivers do it before they allow interrupts again */
    }
    if (r == RTL_RCR)
        rtl_rx_resume(d);
}

static const struct region_ops rtl_ops = { rtl_read, rtl_write, 1, 4, true };

/* ---- life ---- */

static void rtl_reset(struct device *dev)
{
    struct rtl8139 *d = (struct rtl8139 *)dev;
    memcpy(d->reg + RTL_IDR, d->mac, 6);
    memset(d->reg + RTL_MAR, 0, 8);
    memset(&d->tally, 0, sizeof d->tally);
    rtl_reset_chip(d);
}

static void rtl_destroy(struct device *dev)
{
    struct rtl8139 *d = (struct rtl8139 *)dev;
    timer_cancel(&d->timer);
    if (d->port.opaque)
        net_port_unregister(dev->emu, &d->port);
    pci_device_remove(&d->pci);
    emu_free(dev->emu, d->flat);
    emu_free(dev->emu, d->rx_flat);
}

static void rtl_info(struct net_port *p, struct buf *out)
{
    struct rtl8139 *d = p->opaque;
    buf_printf(out, "model=rtl8139,macaddr=%02x:%02x:%02x:%02x:%02x:%02x", d->mac[0], d->mac[1], d->mac[2], d->mac[3], d->mac[4], d->mac[5]);
}

static int rtl_create(struct device *dev, struct options *opts, struct err *err)
{
    struct rtl8139 *d = (struct rtl8139 *)dev;
    struct emu *e = dev->emu;
    int devfn = -1, r, i;
    timer_init(&d->timer, e, rtl_timer_fired, d);
    if ((r = pci_parse_devfn(opts, &devfn, err)) || (r = net_mac_option(e, opts, d->mac, err)) ||
        (r = pci_device_init(&d->pci, devfn, 0x10EC, 0x8139, 0x02000020, err)))
        return r;
    d->pci.config[0x3D] = 1;
    d->pci.config[0x3E] = 32;
    d->pci.config[0x3F] = 64;
    pci_add_bar_io(&d->pci, 0, "rtl8139-io", 256, true, &rtl_ops, d);
    pci_add_bar_io(&d->pci, 1, "rtl8139", 256, false, &rtl_ops, d);
    d->rom.words[0] = 0x8129; /* data sheet §7: signature, then ids */
    d->rom.words[1] = 0x10EC;
    d->rom.words[2] = 0x8139;
    for (i = 0; i < 3; i++)
        d->rom.words[7 + i] = ld16le(d->mac + 2 * i);
    d->port.opaque = d;
    d->port.max_frame = RTL_FRAME_MAX - 64;
    d->port.can_receive = rtl_can_receive;
    d->port.receive = rtl_receive;
    d->port.kick = rtl_kick;
    d->port.link_changed = rtl_link_changed;
    d->port.info = rtl_info;
    net_nic_register(e, &d->port, dev->cls->name, dev->id);
    d->flat = emu_alloc(e, RTL_ROOM + RTL_TX_MAX);
    d->rx_flat = emu_alloc(e, RTL_FRAME_MAX + 64);
    r = d->flat && d->rx_flat ? net_nic_attach(e, &d->port, opts, err) : err_set(err, EMU_ENOMEM, "rtl8139: out of memory");
    if (r)
        rtl_destroy(dev);
    return r;
}

static const struct opt_desc rtl_options[] = {
    { "mac", "mac", "station address" },
    { "netdev", "netdev", "id of the backend" },
    { "addr", "str", "PCI slot[.function]" },
    { "bus", "str", "pci.0" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class rtl8139_class = {
    .name = "rtl8139", .bus = "pci", .help = "Realtek RTL8139C+ fast Ethernet", .options = rtl_options, .instance_size = sizeof(struct rtl8139),
    .create = rtl_create, .reset = rtl_reset, .destroy = rtl_destroy, .user_creatable = true,
};
#undef RTL_CP_OWN
#undef RTL_CP_EOR
#undef RTL_CP_FS
#undef RTL_CP_LS
#undef RTL_CP_LGSEN
#undef RTL_CP_TX_STATUS
#undef RTL_CP_TES
#undef RTL_CP_TAG
#undef RTL_CP_RXTAG
#undef RTL_16
#undef RTL_32
