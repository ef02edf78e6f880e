/* dev/e1000.c - Intel 82540EM gigabit Ethernet controller (PCI).
 *
 * Models     PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (317453), 82540EM; its PHY as the Marvell 88E1011's
 *            registers that this manual lists; the EEPROM is a 93C46 (64 words, Microwire).
 * Contract   A NIC of -nic, -net and -device. Frames come and go through struct net_port; the board gives it a PCI slot. It takes
 *            super-frames (gso) and frames with open checksums, and makes them out of segmentation and checksum requests of the guest.
 * Theory     Out: a write of TDT walks the transmit ring at once. Descriptors of a packet are only noted (address, length) until its last
 *            one; then the pieces of guest memory are handed to net_send() as they lie there, with a copied and completed header in front if the
 *            guest asked for work on it. A packet that TSO would cut leaves as one super-frame. If the peer is full the walk stops
 *            before the packet's last descriptor, and goes on in kick().
 *            In: receive() cuts super-frames and writes each frame into receive buffers. What of a super-frame found no descriptor waits
 *            in the FIFO (the chip's packet buffer); while it holds something, or the ring is empty, the sender is told to wait, and a
 *            write of RDT drains the FIFO and kicks it.
 *            Interrupts: causes collect in ICR; TIDV/TADV and RDTR/RADV delay TXDW and RXT0, ITR spaces the assertions of INTA#.
 * Invariants 1. INTA# is asserted only while ICR & IMS is not 0.
 *            2. Frames of the FIFO are delivered before any later frame.
 *            3. A cause is set in ICR after the descriptors that it tells of were written back.
 *            4. No guest address leads to recursion: a DMA that hits this chip's own registers finds in_tx/in_rx set.
 * Missing    Wake-up and management registers read zero. FCS bytes that a guest without RCTL.SECRC receives are zero. The packet checksum of
 *            a receive descriptor is computed only if RXCSUM.PCSS is set. Pause frames are neither sent nor obeyed. No flash, no PM capability.
 */
#include "../machine.h"
#include "dev.h"
#include "../net/net.h"

enum { /* §13: register offsets */
    E1000_CTRL = 0x0000, E1000_CTRL_DUP = 0x0004, E1000_STATUS = 0x0008, E1000_EECD = 0x0010, E1000_EERD = 0x0014, E1000_CTRL_EXT = 0x0018,
    E1000_MDIC = 0x0020, E1000_FCAL = 0x0028, E1000_FCAH = 0x002C, E1000_FCT = 0x0030, E1000_VET = 0x0038, E1000_ICR = 0x00C0, E1000_ITR = 0x00C4,
    E1000_ICS = 0x00C8, E1000_IMS = 0x00D0, E1000_IMC = 0x00D8, E1000_RCTL = 0x0100, E1000_FCTTV = 0x0170, E1000_TXCW = 0x0178, E1000_RXCW = 0x0180,
    E1000_TCTL = 0x0400, E1000_TIPG = 0x0410, E1000_AIT = 0x0458, E1000_LEDCTL = 0x0E00, E1000_PBA = 0x1000, E1000_FCRTL = 0x2160, E1000_FCRTH = 0x2168,
    E1000_RDFH = 0x2410, E1000_RDFPC = 0x2430, E1000_RDBAL = 0x2800, E1000_RDBAH = 0x2804, E1000_RDLEN = 0x2808, E1000_RDH = 0x2810, E1000_RDT = 0x2818,
    E1000_RDTR = 0x2820, E1000_RXDCTL = 0x2828, E1000_RADV = 0x282C, E1000_RSRPD = 0x2C00, E1000_TXDMAC = 0x3000, E1000_TDFH = 0x3410, E1000_TDFPC = 0x3430,
    E1000_TDBAL = 0x3800, E1000_TDBAH = 0x3804, E1000_TDLEN = 0x3808, E1000_TDH = 0x3810, E1000_TDT = 0x3818, E1000_TIDV = 0x3820, E1000_TXDCTL = 0x3828,
    E1000_TADV = 0x382C, E1000_TSPMT = 0x3830, E1000_STATS = 0x4000, E1000_STATS_END = 0x4100, E1000_RXCSUM = 0x5000, E1000_MTA = 0x5200, E1000_RA = 0x5400,
    E1000_VFTA = 0x5600, E1000_WUC = 0x5800, E1000_MANC = 0x5820, E1000_WAKE_END = 0x5B00, E1000_REGISTERS = 0x8000, E1000_BAR_BYTES = 0x20000
};
enum { /* bits */
    E1000_CTRL_FD = 1 << 0, E1000_CTRL_SLU = 1 << 6, E1000_CTRL_FRCSPD = 1 << 11, E1000_CTRL_FRCDPX = 1 << 12, E1000_CTRL_RST = 1 << 26, E1000_CTRL_VME = 1 << 30,
    E1000_STATUS_FD = 1 << 0, E1000_STATUS_LU = 1 << 1,
    E1000_RCTL_EN = 1 << 1, E1000_RCTL_SBP = 1 << 2, E1000_RCTL_UPE = 1 << 3, E1000_RCTL_MPE = 1 << 4, E1000_RCTL_LPE = 1 << 5, E1000_RCTL_LBM = 3 << 6,
    E1000_RCTL_BAM = 1 << 15, E1000_RCTL_VFE = 1 << 18, E1000_RCTL_CFIEN = 1 << 19, E1000_RCTL_CFI = 1 << 20, E1000_RCTL_BSEX = 1 << 25, E1000_RCTL_SECRC = 1 << 26,
    E1000_TCTL_EN = 1 << 1, E1000_TCTL_PSP = 1 << 3,
    E1000_ICR_TXDW = 1 << 0, E1000_ICR_TXQE = 1 << 1, E1000_ICR_LSC = 1 << 2, E1000_ICR_RXDMT0 = 1 << 4, E1000_ICR_RXO = 1 << 6, E1000_ICR_RXT0 = 1 << 7,
    E1000_ICR_MDAC = 1 << 9, E1000_ICR_TXD_LOW = 1 << 15, E1000_ICR_SRPD = 1 << 16, E1000_ICR_ALL = 0x1FFFF,
    E1000_RXCSUM_IPOFL = 1 << 8, E1000_RXCSUM_TUOFL = 1 << 9,
    E1000_EECD_SK = 1, E1000_EECD_CS = 2, E1000_EECD_DI = 4, E1000_EECD_DO = 8, E1000_EECD_REQ = 0x40, E1000_EECD_GNT = 0x80, E1000_EECD_PRES = 0x100,
    E1000_MDIC_READY = 1 << 28, E1000_MDIC_INT = 1 << 29, E1000_MDIC_ERROR = 1 << 30,
    /* §3.3: transmit descriptors */
    E1000_TXD_EOP = 1, E1000_TXD_IC = 4, E1000_TXD_TSE = 4, E1000_TXD_RS = 8, E1000_TXD_RPS = 0x10, E1000_TXD_DEXT = 0x20, E1000_TXD_VLE = 0x40, E1000_TXD_IDE = 0x80,
    E1000_TXD_DD = 1, E1000_POPTS_IXSM = 1, E1000_POPTS_TXSM = 2, E1000_TUCMD_TCP = 1, E1000_TUCMD_IP = 2,
    /* §3.2.3: receive descriptors */
    E1000_RXD_DD = 1, E1000_RXD_EOP = 2, E1000_RXD_IXSM = 4, E1000_RXD_VP = 8, E1000_RXD_TCPCS = 0x20, E1000_RXD_IPCS = 0x40, E1000_RXD_PIF = 0x80,
    E1000_RXD_TCPE = 0x20, E1000_RXD_IPE = 0x40
};
enum { /* §13.7: statistics, as indices from 4000h */
    E1000_STAT_MPC = 4, E1000_STAT_PRC64 = 23, E1000_STAT_GPRC = 29, E1000_STAT_BPRC = 30, E1000_STAT_MPRC = 31, E1000_STAT_GPTC = 32, E1000_STAT_GORC = 34,
    E1000_STAT_GOTC = 36, E1000_STAT_RNBC = 40, E1000_STAT_RUC = 41, E1000_STAT_ROC = 43, E1000_STAT_TOR = 48, E1000_STAT_TOT = 50, E1000_STAT_TPR = 52,
    E1000_STAT_TPT = 53, E1000_STAT_PTC64 = 54, E1000_STAT_MPTC = 60, E1000_STAT_BPTC = 61, E1000_STAT_TSCTC = 62, E1000_STAT_COUNT = 64
};
enum { /* PHY: IEEE 802.3 §22.2.4 and the 88E1011's own */
    E1000_PHY_BMCR = 0, E1000_PHY_BMSR = 1, E1000_PHY_ANAR = 4, E1000_PHY_GBCR = 9, E1000_PHY_SPEC_STATUS = 17,
    E1000_BMCR_RESET = 0x8000, E1000_BMCR_LOOPBACK = 0x4000, E1000_BMCR_SPEED100 = 0x2000, E1000_BMCR_ANEG = 0x1000, E1000_BMCR_RESTART = 0x0200,
    E1000_BMCR_FD = 0x0100, E1000_BMCR_SPEED1000 = 0x0040
};
enum {
    E1000_DESC = 16, E1000_FRAGS = 60, E1000_HEAD_MAX = 256, E1000_TX_MAX = 65536 + E1000_HEAD_MAX, E1000_ROOM = 4 /* a VLAN tag before the head */,
    E1000_RX_MAX = 16384, E1000_FIFO = 131072, E1000_MIN_FRAME = 60, E1000_FCS = 4, E1000_MAX_FRAME = 1522
};

struct e1000_context { /* §3.3.6: what a context descriptor said */
    uint8_t ipcss, ipcso, tucss, tucso, tucmd, hdr_len;
    uint16_t ipcse, tucse, mss;
};
struct e1000 {
    struct pci_device pci;
    struct net_port port;
    uint8_t mac[6];
    uint32_t reg[E1000_REGISTERS / 4]; /* registers that are plain storage */
    uint32_t icr, ims;
    uint32_t io_address;
    uint16_t phy[32];
    uint64_t stats[E1000_STAT_COUNT]; /* GORC, GOTC, TOR, TOT: the whole 64 bits in the lower one of the pair */
    struct eeprom93 rom;
    /* transmit */
    struct e1000_context context, tso;
    struct {
        uint64_t gpa[E1000_FRAGS];
        uint32_t size[E1000_FRAGS];
        unsigned count;
        size_t total;
        bool started, flat, bad; /* flat: the bytes are in tx_flat already; bad: too long */
        bool legacy;
        uint8_t cmd, popts, css, cso;
        uint16_t special;
    } tx;
    uint8_t *tx_flat; /* E1000_ROOM + E1000_TX_MAX bytes */
    uint8_t tx_head[E1000_ROOM + E1000_HEAD_MAX + 8]; /* headers of what stays in guest memory; of what is in tx_flat: how it began before sending */
    bool in_tx, in_rx;
    /* receive */
    uint8_t *rx_flat; /* E1000_RX_MAX bytes */
    uint8_t *fifo;    /* frames: 32-bit length, then the bytes */
    size_t fifo_start, fifo_end;
    bool rx_any, rx_small; /* frames written since the last look at interrupts */
    bool wants_kick;       /* a sender was told to wait */
    /* interrupts */
    struct timer itr_timer, rx_timer, rx_abs_timer, tx_timer, tx_abs_timer;
    int64_t asserted_ns;
    bool asserted, ever_asserted;
    bool said_unknown, said_bad;
};

#define E1000_REG(d, r) ((d)->reg[(r) / 4])

/* ---- interrupts ---- */

static void e1000_update_irq(struct e1000 *d)
{
    int64_t gap = (int64_t)(E1000_REG(d, E1000_ITR) & 0xFFFF) * 256, now;
    if (!(d->icr & d->ims)) {
        if (d->asserted) {
            d->asserted = false;
            pci_set_intx(&d->pci, 0);
        }
        return;
    }
    if (d->asserted)
        return;
    if (gap) {
        now = emu_now_ns(d->pci.dev.emu);
        if (d->ever_asserted && now < d->asserted_ns + gap) {
            timer_arm(&d->itr_timer, d->asserted_ns + gap);
            return;
        }
        d->asserted_ns = now;
        d->ever_asserted = true;
    }
    d->asserted = true;
    pci_set_intx(&d->pci, 1);
}

static void e1000_cause(struct e1000 *d, uint32_t bits)
{
    d->icr |= bits & E1000_ICR_ALL;
    e1000_update_irq(d);
}

static void e1000_itr_passed(void *opaque) { e1000_update_irq(opaque); }

static void e1000_rx_passed(void *opaque)
{
    struct e1000 *d = opaque;
    timer_cancel(&d->rx_timer);
    timer_cancel(&d->rx_abs_timer);
    e1000_cause(d, E1000_ICR_RXT0);
}

static void e1000_tx_passed(void *opaque)
{
    struct e1000 *d = opaque;
    timer_cancel(&d->tx_timer);
    timer_cancel(&d->tx_abs_timer);
    e1000_cause(d, E1000_ICR_TXDW);
}

/* §13.4.30, §13.4.44: the packet timer starts anew with each packet, the absolute one with the first. Units of 1.024 us. */
static void e1000_delay(struct e1000 *d, struct timer *packet, unsigned packet_units, struct timer *absolute, unsigned absolute_units)
{
    int64_t now = emu_now_ns(d->pci.dev.emu);
    timer_arm(packet, now + (int64_t)packet_units * 1024);
    if (absolute_units && !timer_armed(absolute))
        timer_arm(absolute, now + (int64_t)absolute_units * 1024);
}

/* ---- statistics ---- */

static void e1000_count(struct e1000 *d, unsigned stat, uint64_t n)
{
    bool wide = stat == E1000_STAT_GORC || stat == E1000_STAT_GOTC || stat == E1000_STAT_TOR || stat == E1000_STAT_TOT;
    uint64_t max = wide ? UINT64_MAX : UINT32_MAX; /* they stick at their maximum */
    d->stats[stat] = d->stats[stat] > max - n ? max : d->stats[stat] + n;
}

static uint32_t e1000_stat_read(struct e1000 *d, unsigned i)
{
    uint32_t v;
    if (i == E1000_STAT_GORC || i == E1000_STAT_GOTC || i == E1000_STAT_TOR || i == E1000_STAT_TOT)
        return (uint32_t)d->stats[i]; /* cleared with the upper half */
    if (i == E1000_STAT_GORC + 1 || i == E1000_STAT_GOTC + 1 || i == E1000_STAT_TOR + 1 || i == E1000_STAT_TOT + 1) {
        v = (uint32_t)(d->stats[i - 1] >> 32);
        d->stats[i - 1] = 0;
        return v;
    }
    v = (uint32_t)d->stats[i];
    d->stats[i] = 0;
    return v;
}

/* Size classes of PRCx and PTCx, FCS included. */
static unsigned e1000_size_class(size_t bytes)
{
    return bytes <= 64 ? 0 : bytes <= 127 ? 1 : bytes <= 255 ? 2 : bytes <= 511 ? 3 : bytes <= 1023 ? 4 : 5;
}

/* n frames of together bytes (without FCS). */
static void e1000_count_sent(struct e1000 *d, const uint8_t *head, uint64_t n, uint64_t bytes)
{
    bytes += n * E1000_FCS;
    e1000_count(d, E1000_STAT_GPTC, n);
    e1000_count(d, E1000_STAT_TPT, n);
    e1000_count(d, E1000_STAT_GOTC, bytes);
    e1000_count(d, E1000_STAT_TOT, bytes);
    e1000_count(d, E1000_STAT_PTC64 + e1000_size_class((size_t)(bytes / n)), n);
    if (head[0] & 1)
        e1000_count(d, ld32be(head) == 0xFFFFFFFFu && ld16be(head + 4) == 0xFFFF ? E1000_STAT_BPTC : E1000_STAT_MPTC, n);
}

static void e1000_bad(struct e1000 *d, const char *what)
{
    emu_log_once(d->pci.dev.emu, &d->said_bad, LOG_GUEST_ERROR, "e1000: %s; dropped", what);
}

/* ---- link and PHY ---- */

static bool e1000_link_up(const struct e1000 *d) { return !d->port.link_down && (!d->port.peer || !d->port.peer->link_down); }

/* What the PHY negotiated or was told: 2 = 1000, 1 = 100, 0 = 10 Mbit/s. */
static unsigned e1000_speed(const struct e1000 *d, bool *full)
{
    unsigned bmcr = d->phy[E1000_PHY_BMCR], advertised = d->phy[E1000_PHY_ANAR];
    if (!(bmcr & E1000_BMCR_ANEG)) {
        *full = (bmcr & E1000_BMCR_FD) != 0;
        return bmcr & E1000_BMCR_SPEED1000 ? 2 : bmcr & E1000_BMCR_SPEED100 ? 1 : 0;
    }
    if (d->phy[E1000_PHY_GBCR] & 0x0300) {
        *full = (d->phy[E1000_PHY_GBCR] & 0x0200) != 0;
        return 2;
    }
    *full = (advertised & 0x0100) || (!(advertised & 0x0080) && (advertised & 0x0040));
    return advertised & 0x0180 ? 1 : 0;
}

static uint32_t e1000_status(const struct e1000 *d)
{
    uint32_t ctrl = E1000_REG(d, E1000_CTRL), v = 0;
    bool full;
    unsigned speed = e1000_speed(d, &full);
    if (ctrl & E1000_CTRL_FRCSPD)
        speed = EMU_MIN((ctrl >> 8) & 3, 2u);
    if (ctrl & E1000_CTRL_FRCDPX)
        full = (ctrl & E1000_CTRL_FD) != 0;
    if (full)
        v |= E1000_STATUS_FD;
    if (e1000_link_up(d) || (d->phy[E1000_PHY_BMCR] & E1000_BMCR_LOOPBACK))
        v |= E1000_STATUS_LU;
    return v | speed << 6 | speed << 8;
}

static void e1000_phy_reset(struct e1000 *d)
{
    static const struct { uint8_t reg; uint16_t value; } initial[] = {
        { 0, 0x1140 }, { 2, 0x0141 }, { 3, 0x0C20 }, { 4, 0x0DE1 }, { 5, 0x45E1 }, { 6, 0x000D }, { 7, 0x2001 }, { 9, 0x0E00 }, { 10, 0x3C00 },
        { 15, 0x3000 }, { 16, 0x0360 }, { 20, 0x0D60 },
    };
    size_t i;
    memset(d->phy, 0, sizeof d->phy);
    for (i = 0; i < EMU_ARRAY_LEN(initial); i++)
        d->phy[initial[i].reg] = initial[i].value;
}

static uint16_t e1000_phy_read(struct e1000 *d, unsigned reg)
{
    bool full, up = e1000_link_up(d);
    unsigned speed = e1000_speed(d, &full);
    switch (reg) {
    case E1000_PHY_BMSR:
        return (uint16_t)(0x7949 | (up ? 0x0004 | (d->phy[E1000_PHY_BMCR] & E1000_BMCR_ANEG ? 0x0020 : 0) : 0));
    case 5: /* the partner's abilities */
    case 6:
    case 10: return up ? d->phy[reg] : 0;
    case E1000_PHY_SPEC_STATUS: return (uint16_t)(up ? speed << 14 | (full ? 0x2000 : 0) | 0x0C00 : 0);
    default: return d->phy[reg];
    }
}

static void e1000_phy_write(struct e1000 *d, unsigned reg, uint16_t value)
{
    static const uint16_t writable[32] = { [0] = 0x7D40, [4] = 0xBDFF, [7] = 0xFFFF, [9] = 0xFF00, [16] = 0xFFFF, [18] = 0xFFFF, [20] = 0xFFFF, [21] = 0,
        [22] = 0xFFFF, [24] = 0xFFFF, [25] = 0xFFFF, [29] = 0xFFFF, [30] = 0xFFFF, [31] = 0xFFFF };
    bool restart = reg == E1000_PHY_BMCR && (value & (E1000_BMCR_RESET | E1000_BMCR_RESTART));
    d->phy[reg] = (uint16_t)((d->phy[reg] & ~writable[reg]) | (value & writable[reg]));
    if (restart && e1000_link_up(d)) /* negotiation takes no time here */
        e1000_cause(d, E1000_ICR_LSC);
}

/* §13.4.9 */
static void e1000_mdic_write(struct e1000 *d, uint32_t v)
{
    unsigned phy = (v >> 21) & 31, reg = (v >> 16) & 31, op = (v >> 26) & 3;
    v &= ~(uint32_t)(E1000_MDIC_READY | E1000_MDIC_ERROR);
    if (phy != 1 || (op != 1 && op != 2))
        v |= E1000_MDIC_ERROR;
    else if (op == 1)
        e1000_phy_write(d, reg, (uint16_t)v);
    else
        v = (v & 0xFFFF0000u) | e1000_phy_read(d, reg);
    E1000_REG(d, E1000_MDIC) = v | E1000_MDIC_READY;
    if (v & E1000_MDIC_INT)
        e1000_cause(d, E1000_ICR_MDAC);
}

static void e1000_link_changed(struct net_port *p) { e1000_cause(p->opaque, E1000_ICR_LSC); }

/* ---- EEPROM ---- */

static void e1000_eeprom_fill(struct e1000 *d)
{
    uint16_t sum = 0;
    unsigned i;
    memset(d->rom.words, 0, sizeof d->rom.words);
    for (i = 0; i < 3; i++)
        d->rom.words[i] = ld16le(d->mac + 2 * i);
    d->rom.words[0x0A] = 0x4408; /* initialization control 1: ids are valid */
    d->rom.words[0x0B] = ld16le(d->pci.config + 0x2E);
    d->rom.words[0x0C] = ld16le(d->pci.config + 0x2C);
    d->rom.words[0x0D] = ld16le(d->pci.config + 2);
    d->rom.words[0x0E] = ld16le(d->pci.config);
    d->rom.words[0x0F] = 0x3040; /* initialization control 2 */
    for (i = 0; i < EEPROM93_WORDS - 1; i++)
        sum = (uint16_t)(sum + d->rom.words[i]);
    d->rom.words[EEPROM93_WORDS - 1] = (uint16_t)(0xBABA - sum); /* §5.6.35 */
}

static void e1000_eecd_write(struct e1000 *d, uint32_t v)
{
    eeprom93_pins(&d->rom, (v & E1000_EECD_CS) != 0, (v & E1000_EECD_SK) != 0, (v & E1000_EECD_DI) != 0);
    E1000_REG(d, E1000_EECD) = v & (E1000_EECD_SK | E1000_EECD_CS | E1000_EECD_DI | E1000_EECD_REQ | 0x30);
}

static uint32_t e1000_eecd_read(const struct e1000 *d)
{
    uint32_t v = E1000_REG(d, E1000_EECD) | E1000_EECD_PRES;
    return v | (d->rom.data_out ? E1000_EECD_DO : 0) | (v & E1000_EECD_REQ ? E1000_EECD_GNT : 0);
}

static void e1000_eerd_write(struct e1000 *d, uint32_t v)
{
    unsigned address = (v >> 8) & 0xFF;
    if (v & 1)
        v = (v & 0xFF00) | 0x10 | (address < EEPROM93_WORDS ? (uint32_t)d->rom.words[address] << 16 : 0);
    E1000_REG(d, E1000_EERD) = v;
}

/* ---- receive ---- */

static unsigned e1000_ring_entries(const struct e1000 *d, unsigned len) { return E1000_REG(d, len) / E1000_DESC; }
static uint64_t e1000_ring_base(const struct e1000 *d, unsigned bal) { return (uint64_t)d->reg[bal / 4 + 1] << 32 | E1000_REG(d, bal); }

static bool e1000_rx_on(const struct e1000 *d) { return (E1000_REG(d, E1000_RCTL) & E1000_RCTL_EN) && pci_bus_master(&d->pci); }

static unsigned e1000_rx_free(const struct e1000 *d)
{
    unsigned n = e1000_ring_entries(d, E1000_RDLEN), head = E1000_REG(d, E1000_RDH), tail = E1000_REG(d, E1000_RDT);
    if (head >= n || tail >= n)
        return 0;
    return tail >= head ? tail - head : n - head + tail;
}

static unsigned e1000_rx_buffer(const struct e1000 *d)
{
    uint32_t rctl = E1000_REG(d, E1000_RCTL);
    unsigned bytes = 2048u >> ((rctl >> 16) & 3); /* §13.4.22: 2048, 1024, 512, 256; times 16 with BSEX */
    return (rctl & E1000_RCTL_BSEX) && bytes < 2048 ? bytes * 16 : bytes;
}

/* §3.2.1: 0 not for us, 1 by an exact address, 2 by another filter. */
static int e1000_address_match(const struct e1000 *d, const uint8_t *frame)
{
    static const uint8_t shifts[4] = { 4, 3, 2, 0 };
    uint32_t rctl = E1000_REG(d, E1000_RCTL);
    uint32_t low = ld32le(frame), high = ld16le(frame + 4);
    unsigned i, hash;
    for (i = 0; i < 16; i++) {
        uint32_t rah = d->reg[E1000_RA / 4 + 2 * i + 1];
        if (!(rah >> 31))
            continue;
        if ((rah & 0x30000) == 0x10000) { /* compared with the source address */
            if (d->reg[E1000_RA / 4 + 2 * i] == ld32le(frame + 6) && (rah & 0xFFFF) == ld16le(frame + 10))
                return 1;
        } else if (d->reg[E1000_RA / 4 + 2 * i] == low && (rah & 0xFFFF) == high) {
            return 1;
        }
    }
    if (low == 0xFFFFFFFFu && high == 0xFFFF)
        return (rctl & (E1000_RCTL_BAM | E1000_RCTL_MPE)) ? 1 : 0;
    if (frame[0] & 1) {
        if (rctl & E1000_RCTL_MPE)
            return 2;
        hash = (high >> shifts[(rctl >> 12) & 3]) & 0xFFF;
        return (d->reg[E1000_MTA / 4 + hash / 32] >> (hash & 31)) & 1 ? 2 : 0;
    }
    return rctl & E1000_RCTL_UPE ? 2 : 0;
}

static uint16_t e1000_fold(uint32_t sum)
{
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)((sum & 0xFFFF) + (sum >> 16));
}

/* Internet checksum sum (RFC 1071), in any byte order turned to big-endian words. */
static uint32_t e1000_sum(const uint8_t *p, size_t size)
{
    uint64_t sum = 0;
    while (size >= 4) {
        sum += ld32be(p);
        p += 4;
        size -= 4;
    }
    if (size >= 2)
        sum += ld16be(p);
    if (size & 1)
        sum += (uint32_t)p[size & 2] << 8;
    sum = (sum & 0xFFFFFFFFu) + (sum >> 32);
    sum = (sum & 0xFFFF) + ((sum >> 16) & 0xFFFF) + (sum >> 32);
    return (uint32_t)sum;
}

/* §3.2.9: status (low byte) and error bits (next byte) for the checksums of a frame. */
static unsigned e1000_rx_checksums(const struct e1000 *d, const uint8_t *frame, size_t size, bool vouched)
{
    uint32_t offload = E1000_REG(d, E1000_RXCSUM), sum;
    unsigned result = 0, proto, type;
    size_t ip = 14, l4, end;
    if (!(offload & (E1000_RXCSUM_IPOFL | E1000_RXCSUM_TUOFL)))
        return E1000_RXD_IXSM;
    type = ld16be(frame + 12);
    if (type == (E1000_REG(d, E1000_VET) & 0xFFFF) && size >= 18) {
        type = ld16be(frame + 16);
        ip = 18;
    }
    if (type == 0x0800) {
        size_t header, total;
        if (size < ip + 20 || (frame[ip] >> 4) != 4)
            return E1000_RXD_IXSM;
        header = (size_t)(frame[ip] & 15) * 4;
        total = ld16be(frame + ip + 2);
        if (header < 20 || total < header || ip + total > size)
            return E1000_RXD_IXSM;
        if (offload & E1000_RXCSUM_IPOFL) {
            result |= E1000_RXD_IPCS;
            if (!vouched && e1000_fold(e1000_sum(frame + ip, header)) != 0xFFFF)
                result |= (unsigned)E1000_RXD_IPE << 8;
        }
        if (ld16be(frame + ip + 6) & 0x3FFF) /* a fragment */
            return result;
        proto = frame[ip + 9];
        l4 = ip + header;
        end = ip + total;
        sum = e1000_sum(frame + ip + 12, 8);
    } else if (type == 0x86DD) {
        if (size < ip + 40 || ip + 40 + ld16be(frame + ip + 4) > size)
            return E1000_RXD_IXSM;
        proto = frame[ip + 6];
        l4 = ip + 40;
        end = l4 + ld16be(frame + ip + 4);
        sum = e1000_sum(frame + ip + 8, 32);
        if (proto != 6 && proto != 17)
            return E1000_RXD_IXSM;
    } else {
        return E1000_RXD_IXSM;
    }
    if (!(offload & E1000_RXCSUM_TUOFL) || !((proto == 6 && end >= l4 + 20) || (proto == 17 && end >= l4 + 8)))
        return result;
    if (proto == 17 && !ld16be(frame + l4 + 6)) /* UDP without a checksum */
        return result;
    result |= E1000_RXD_TCPCS;
    if (!vouched && e1000_fold(sum + proto + (uint32_t)(end - l4) + e1000_sum(frame + l4, end - l4)) != 0xFFFF)
        result |= (unsigned)E1000_RXD_TCPE << 8;
    return result;
}

/* Writes one frame (at least 60 bytes) into the ring. false: too few descriptors are free now. */
static bool e1000_rx_write(struct e1000 *d, const uint8_t *frame, size_t size, unsigned status, uint16_t special)
{
    struct emu *e = d->pci.dev.emu;
    uint32_t rctl = E1000_REG(d, E1000_RCTL);
    unsigned n = e1000_ring_entries(d, E1000_RDLEN), buffer = e1000_rx_buffer(d), head = E1000_REG(d, E1000_RDH), pcss;
    size_t total = size + (rctl & E1000_RCTL_SECRC ? 0 : E1000_FCS), offset = 0;
    uint64_t base = e1000_ring_base(d, E1000_RDBAL);
    uint16_t sum = 0;
    if (e1000_rx_free(d) < (total + buffer - 1) / buffer)
        return false;
    pcss = E1000_REG(d, E1000_RXCSUM) & 0xFF;
    if (pcss && pcss < size)
        sum = e1000_fold(e1000_sum(frame + pcss, size - pcss));
    d->in_rx = true;
    while (offset < total) {
        uint64_t at = base + (uint64_t)head * E1000_DESC, gpa = mem_ld(e, at, 8);
        size_t bytes = EMU_MIN(total - offset, (size_t)buffer), data = offset < size ? EMU_MIN(bytes, size - offset) : 0;
        bool last = offset + bytes == total;
        uint8_t back[8];
        if (data)
            dma_write(e, gpa, frame + offset, data);
        if (bytes > data) {
            static const uint8_t fcs[E1000_FCS] = { 0, 0, 0, 0 };
            dma_write(e, gpa + data, fcs, bytes - data);
        }
        st16le(back, (uint16_t)bytes);
        st16le(back + 2, sum);
        back[4] = (uint8_t)(E1000_RXD_DD | (last ? E1000_RXD_EOP | (status & 0xFF) : E1000_RXD_IXSM));
        back[5] = last ? (uint8_t)(status >> 8) : 0;
        st16le(back + 6, special);
        dma_write(e, at + 8, back, sizeof back);
        head = head + 1 == n ? 0 : head + 1;
        offset += bytes;
    }
    d->in_rx = false;
    E1000_REG(d, E1000_RDH) = head;
    d->rx_any = true;
    if (size <= (E1000_REG(d, E1000_RSRPD) & 0xFFF))
        d->rx_small = true;
    return true;
}

/* One frame as it comes from the wire. false: wait for descriptors. */
static bool e1000_rx_frame(struct e1000 *d, const uint8_t *frame, size_t size, bool vouched)
{
    uint32_t rctl = E1000_REG(d, E1000_RCTL);
    uint8_t *copy = d->rx_flat;
    unsigned status;
    uint16_t special = 0;
    uint64_t wire;
    int match;
    if (size < 14)
        return true;
    if (size < E1000_MIN_FRAME) {
        memmove(copy, frame, size);
        memset(copy + size, 0, E1000_MIN_FRAME - size);
        size = E1000_MIN_FRAME;
        frame = copy;
    }
    wire = size + E1000_FCS;
    match = e1000_address_match(d, frame);
    if (!match)
        return true;
    if (wire > (rctl & E1000_RCTL_LPE ? (uint64_t)E1000_RX_MAX : (uint64_t)E1000_MAX_FRAME)) {
        e1000_count(d, E1000_STAT_ROC, 1);
        return true;
    }
    status = e1000_rx_checksums(d, frame, size, vouched) | (match == 2 ? E1000_RXD_PIF : 0);
    if (ld16be(frame + 12) == (E1000_REG(d, E1000_VET) & 0xFFFF)) {
        unsigned tag = ld16be(frame + 14), vlan = tag & 0xFFF;
        if ((rctl & E1000_RCTL_VFE) && !((d->reg[E1000_VFTA / 4 + vlan / 32] >> (vlan & 31)) & 1))
            return true;
        if ((rctl & E1000_RCTL_VFE) && (rctl & E1000_RCTL_CFIEN) && !(tag & 0x1000) != !(rctl & E1000_RCTL_CFI))
            return true;
        if (E1000_REG(d, E1000_CTRL) & E1000_CTRL_VME) { /* strip */
            memmove(copy, frame, 12);
            memmove(copy + 12, frame + 16, size - 16);
            frame = copy;
            size -= 4;
            special = (uint16_t)tag;
            status |= E1000_RXD_VP;
        }
    }
    if (!e1000_rx_write(d, frame, size, status, special))
        return false;
    e1000_count(d, E1000_STAT_TPR, 1);
    e1000_count(d, E1000_STAT_GPRC, 1);
    e1000_count(d, E1000_STAT_TOR, wire);
    e1000_count(d, E1000_STAT_GORC, wire);
    e1000_count(d, E1000_STAT_PRC64 + e1000_size_class((size_t)wire), 1);
    if (frame[0] & 1)
        e1000_count(d, ld32be(frame) == 0xFFFFFFFFu && ld16be(frame + 4) == 0xFFFF ? E1000_STAT_BPRC : E1000_STAT_MPRC, 1);
    return true;
}

/* After a batch of frames: the causes that it makes (invariant 3). */
static void e1000_rx_causes(struct e1000 *d)
{
    unsigned n = e1000_ring_entries(d, E1000_RDLEN), threshold = n >> (((E1000_REG(d, E1000_RCTL) >> 8) & 3) + 1), delay = E1000_REG(d, E1000_RDTR) & 0xFFFF;
    uint32_t causes = 0;
    if (!d->rx_any)
        return;
    d->rx_any = false;
    if (e1000_rx_free(d) <= threshold)
        causes |= E1000_ICR_RXDMT0;
    if (d->rx_small)
        causes |= E1000_ICR_SRPD;
    d->rx_small = false;
    if (delay)
        e1000_delay(d, &d->rx_timer, delay, &d->rx_abs_timer, E1000_REG(d, E1000_RADV) & 0xFFFF);
    else
        causes |= E1000_ICR_RXT0;
    if (causes)
        e1000_cause(d, causes);
}

static void e1000_fifo_put(struct e1000 *d, const uint8_t *frame, size_t size)
{
    if (!d->fifo)
        d->fifo = emu_alloc(d->pci.dev.emu, E1000_FIFO);
    if (!d->fifo || size + 4 > E1000_FIFO - d->fifo_end) {
        e1000_count(d, E1000_STAT_MPC, 1);
        e1000_cause(d, E1000_ICR_RXO);
        return;
    }
    st32le(d->fifo + d->fifo_end, (uint32_t)size);
    memcpy(d->fifo + d->fifo_end + 4, frame, size);
    d->fifo_end += size + 4;
}

static void e1000_fifo_drain(struct e1000 *d)
{
    while (d->fifo_start < d->fifo_end) {
        size_t size = ld32le(d->fifo + d->fifo_start);
        if (!e1000_rx_frame(d, d->fifo + d->fifo_start + 4, size, true))
            return;
        d->fifo_start += size + 4;
    }
    d->fifo_start = d->fifo_end = 0;
}

/* A frame of a super-frame: what finds no descriptor waits in the FIFO. */
static int e1000_rx_cut(void *opaque, const struct net_frame *plain)
{
    struct e1000 *d = opaque;
    if (d->fifo_end || !e1000_rx_frame(d, plain->pieces[0].base, plain->size, true))
        e1000_fifo_put(d, plain->pieces[0].base, plain->size);
    return 1;
}

static bool e1000_can_receive(struct net_port *p)
{
    struct e1000 *d = p->opaque;
    if (!e1000_rx_on(d))
        return true; /* to be dropped */
    if (!d->fifo_end && e1000_rx_free(d))
        return true;
    d->wants_kick = true;
    return false;
}

/* looped: the frame is our own; then nobody can wait. */
static int e1000_take(struct e1000 *d, const struct net_frame *f, bool looped)
{
    const uint8_t *frame;
    bool taken = true;
    if (!e1000_rx_on(d) || d->in_rx)
        return 1;
    if (!looped && !e1000_can_receive(&d->port))
        return 0;
    if (f->gso != NET_GSO_NONE || f->needs_csum) {
        net_frame_cut(d->pci.dev.emu, f, e1000_rx_cut, d);
    } else if (f->size <= E1000_RX_MAX) {
        frame = f->pieces[0].base;
        if (f->count > 1) {
            net_frame_copy(f, 0, d->rx_flat, f->size);
            frame = d->rx_flat;
        }
        taken = e1000_rx_frame(d, frame, f->size, f->csum_valid);
    }
    e1000_rx_causes(d);
    if (!taken && looped) {
        e1000_count(d, E1000_STAT_MPC, 1);
        e1000_count(d, E1000_STAT_RNBC, 1);
        e1000_cause(d, E1000_ICR_RXO);
        return 1;
    }
    if (!taken) {
        d->wants_kick = true;
        /* too long for the whole ring: it will never fit */
        if (f->size + E1000_FCS > (uint64_t)e1000_rx_buffer(d) * (e1000_ring_entries(d, E1000_RDLEN) - 1))
            return 1;
    }
    return taken;
}

static int e1000_receive(struct net_port *p, const struct net_frame *f) { return e1000_take(p->opaque, f, false); }

/* Descriptors came, or the receiver was switched. */
static void e1000_rx_resume(struct e1000 *d)
{
    if (d->in_rx)
        return;
    if (!e1000_rx_on(d))
        d->fifo_start = d->fifo_end = 0;
    else if (d->fifo_end)
        e1000_fifo_drain(d);
    e1000_rx_causes(d);
    if (d->wants_kick && !d->fifo_end && (e1000_rx_free(d) || !e1000_rx_on(d))) {
        d->wants_kick = false;
        net_kick_peer(&d->port);
    }
}

/* ---- transmit ---- */

static void e1000_tx_forget(struct e1000 *d)
{
    d->tx.count = 0;
    d->tx.total = 0;
    d->tx.started = d->tx.flat = d->tx.bad = false;
}

/* Gathers the fragments noted so far. */
static void e1000_tx_flatten(struct e1000 *d)
{
    size_t at = 0;
    unsigned i;
    if (d->tx.flat)
        return;
    for (i = 0; i < d->tx.count; i++) {
        dma_read(d->pci.dev.emu, d->tx.gpa[i], d->tx_flat + E1000_ROOM + at, d->tx.size[i]);
        at += d->tx.size[i];
    }
    d->tx.flat = true;
}

static void e1000_tx_add(struct e1000 *d, uint64_t gpa, uint32_t size)
{
    if (!size || d->tx.bad)
        return;
    if (d->tx.total + size > E1000_TX_MAX) {
        d->tx.bad = true;
        return;
    }
    if (!d->tx.flat && d->tx.count == E1000_FRAGS)
        e1000_tx_flatten(d);
    if (d->tx.flat) {
        dma_read(d->pci.dev.emu, gpa, d->tx_flat + E1000_ROOM + d->tx.total, size);
    } else {
        d->tx.gpa[d->tx.count] = gpa;
        d->tx.size[d->tx.count++] = size;
    }
    d->tx.total += size;
}

/* Checksum of head[start..end] stored at head[at]; what lies there is part of the sum (§3.5: software puts the pseudo header's there). */
static void e1000_tx_checksum(uint8_t *head, size_t start, size_t at, size_t end)
{
    st16be(head + at, (uint16_t)~e1000_fold(e1000_sum(head + start, end - start)));
}

/* The headers of a packet that is to be cut: length, IP checksum, pseudo header sum as for one large packet. false: makes no sense. */
static bool e1000_tx_segment(struct e1000 *d, uint8_t *head, struct net_frame *f, bool vlan)
{
    const struct e1000_context *c = &d->tso;
    size_t header = c->hdr_len, size = d->tx.total, ip = c->ipcss, l4 = c->tucss;
    bool tcp = (c->tucmd & E1000_TUCMD_TCP) != 0, ip4 = (c->tucmd & E1000_TUCMD_IP) != 0;
    uint32_t sum;
    if (header >= size || !c->mss || !(ip == 14 || (ip == 18 && ld16be(head + 12) == 0x8100)) || l4 < ip + (ip4 ? 20u : 40u) ||
        l4 + (tcp ? 20u : 8u) > header || c->tucso < l4 || c->tucso + 2u > header || (!ip4 && !tcp))
        return false;
    if (ip4 && ip + (size_t)(head[ip] & 15) * 4 != l4)
        return false;
    if (ip4) {
        if (size - ip > 65535)
            return false;
        st16be(head + ip + 2, (uint16_t)(size - ip));
        st16be(head + ip + 10, 0);
        e1000_tx_checksum(head, ip, ip + 10, l4);
    } else {
        if (size - ip - 40 > 65535)
            return false;
        st16be(head + ip + 4, (uint16_t)(size - ip - 40));
    }
    if (!tcp)
        st16be(head + l4 + 4, (uint16_t)(size - l4));
    sum = ld16be(head + c->tucso) + (uint32_t)(size - l4);
    st16be(head + c->tucso, e1000_fold(sum));
    f->needs_csum = true;
    f->csum_start = (uint16_t)(l4 + (vlan ? 4 : 0));
    f->csum_offset = (uint16_t)(c->tucso - l4);
    if (size - header > c->mss) {
        f->gso = !tcp ? NET_GSO_UDP : ip4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
        f->gso_size = c->mss;
        f->header_bytes = (uint16_t)(header + (vlan ? 4 : 0));
    }
    return true;
}

static bool e1000_looped(const struct e1000 *d)
{
    return (E1000_REG(d, E1000_RCTL) & E1000_RCTL_LBM) || (d->phy[E1000_PHY_BMCR] & E1000_BMCR_LOOPBACK);
}

/* The pieces of the frame behind its first skip bytes, as they lie in guest memory; -1: not all of it is plain RAM. */
static int e1000_tx_pieces(struct e1000 *d, struct host_iov *pieces, int count, size_t skip)
{
    unsigned i;
    for (i = 0; i < d->tx.count; i++) {
        uint64_t gpa = d->tx.gpa[i], left = d->tx.size[i];
        if (skip >= left) {
            skip -= (size_t)left;
            continue;
        }
        gpa += skip;
        left -= skip;
        skip = 0;
        while (left) {
            uint64_t n = left;
            uint8_t *p = mem_host(d->pci.dev.emu, gpa, &n, false);
            if (!p || !n || count == NET_FRAME_MAX_PIECES)
                return -1;
            pieces[count].base = p;
            pieces[count++].size = (size_t)n;
            gpa += n;
            left -= n;
        }
    }
    return count;
}

static void e1000_tx_read_head(struct e1000 *d, uint8_t *to, size_t size)
{
    unsigned i;
    for (i = 0; i < d->tx.count && size; i++) {
        size_t n = EMU_MIN(size, (size_t)d->tx.size[i]);
        dma_read(d->pci.dev.emu, d->tx.gpa[i], to, n);
        to += n;
        size -= n;
    }
}

/* Sends the packet that is complete now. false: the peer is full. */
static bool e1000_tx_send(struct e1000 *d)
{
    struct host_iov pieces[NET_FRAME_MAX_PIECES];
    struct net_frame f;
    const struct e1000_context *c = &d->context;
    bool tso = !d->tx.legacy && (d->tx.cmd & E1000_TXD_TSE), vlan = (d->tx.cmd & E1000_TXD_VLE) && (E1000_REG(d, E1000_CTRL) & E1000_CTRL_VME);
    bool ixsm = !d->tx.legacy && !tso && (d->tx.popts & E1000_POPTS_IXSM), txsm = !d->tx.legacy && !tso && (d->tx.popts & E1000_POPTS_TXSM);
    size_t size = d->tx.total, need = 0, frames = 1, wire;
    uint8_t *head;
    int count = 0;
    bool pad = size < E1000_MIN_FRAME && (E1000_REG(d, E1000_TCTL) & E1000_TCTL_PSP) && size >= 14;
    memset(&f, 0, sizeof f);
    if (pad) {
        e1000_tx_flatten(d);
        memset(d->tx_flat + E1000_ROOM + size, 0, E1000_MIN_FRAME - size);
        if (!tso)
            size = d->tx.total = E1000_MIN_FRAME;
    }
    if (d->tx.bad || size < 14 || (!tso && size > E1000_RX_MAX)) {
        e1000_bad(d, "packet of a bad size sent");
        return true;
    }
    if (tso)
        need = d->tso.hdr_len;
    if (ixsm)
        need = EMU_MIN(size, EMU_MAX((size_t)c->ipcso + 2, (size_t)c->ipcse + 1));
    if (vlan)
        need = EMU_MAX(need, (size_t)14);
    if (need > size || need > E1000_HEAD_MAX || (txsm && c->tucse) || (d->tx.legacy && (d->tx.cmd & E1000_TXD_IC)))
        e1000_tx_flatten(d);
    if (!d->tx.flat) {
        head = d->tx_head + E1000_ROOM;
        if (need) {
            e1000_tx_read_head(d, head, need);
            count = 1;
        }
        count = e1000_tx_pieces(d, pieces, count, need);
        if (count < 0)
            e1000_tx_flatten(d);
    }
    if (d->tx.flat) {
        head = d->tx_flat + E1000_ROOM;
        need = size;
        count = 1;
    } else {
        head = d->tx_head + E1000_ROOM;
    }
    if (tso && !e1000_tx_segment(d, head, &f, vlan)) {
        e1000_bad(d, "segmentation request that makes no sense");
        return true;
    }
    if (tso && pad && f.gso == NET_GSO_NONE) /* only now: padding is no payload */
        size = need = d->tx.total = E1000_MIN_FRAME;
    if (ixsm) {
        size_t end = c->ipcse ? (size_t)c->ipcse + 1 : need;
        if (end <= need && c->ipcss < end && c->ipcso + 2u <= need)
            e1000_tx_checksum(head, c->ipcss, c->ipcso, end);
    }
    if (txsm && !c->tucse && c->tucso >= c->tucss && c->tucso + 2u <= size) {
        f.needs_csum = true;
        f.csum_start = (uint16_t)(c->tucss + (vlan ? 4 : 0));
        f.csum_offset = (uint16_t)(c->tucso - c->tucss);
    } else if (txsm && c->tucse && c->tucse < size && c->tucss <= c->tucse && c->tucso + 2u <= size) {
        e1000_tx_checksum(head, c->tucss, c->tucso, (size_t)c->tucse + 1);
    }
    if (d->tx.legacy && (d->tx.cmd & E1000_TXD_IC) && d->tx.css < size && d->tx.cso + 2u <= size)
        e1000_tx_checksum(head, d->tx.css, d->tx.cso, size);
    if (vlan) {
        memmove(head - 4, head, 12);
        head -= 4;
        st16be(head + 12, (uint16_t)E1000_REG(d, E1000_VET));
        st16be(head + 14, d->tx.special);
        need += 4;
        size += 4;
    }
    if (need) {
        pieces[0].base = head;
        pieces[0].size = need;
    }
    f.pieces = pieces;
    f.count = count;
    f.size = size;
    if (e1000_looped(d))
        e1000_take(d, &f, true);
    else if (!net_send(&d->port, &f))
        return false;
    wire = size;
    if (f.gso != NET_GSO_NONE) {
        frames = (size - f.header_bytes + f.gso_size - 1) / f.gso_size;
        wire += (frames - 1) * f.header_bytes;
        e1000_count(d, E1000_STAT_TSCTC, 1);
    }
    e1000_count_sent(d, pieces[0].size >= 6 ? pieces[0].base : d->mac, frames, wire);
    return true;
}

static void e1000_tx_context(struct e1000 *d, const uint8_t *desc)
{
    uint32_t cmd = ld32le(desc + 8);
    struct e1000_context *c = (cmd >> 24) & E1000_TXD_TSE ? &d->tso : &d->context;
    c->ipcss = desc[0];
    c->ipcso = desc[1];
    c->ipcse = ld16le(desc + 2);
    c->tucss = desc[4];
    c->tucso = desc[5];
    c->tucse = ld16le(desc + 6);
    c->tucmd = (uint8_t)(cmd >> 24);
    c->hdr_len = desc[13];
    c->mss = ld16le(desc + 14);
}

/* One descriptor. false: it has to wait for the peer. */
static bool e1000_tx_descriptor(struct e1000 *d, const uint8_t *desc)
{
    uint32_t lower = ld32le(desc + 8);
    uint8_t cmd = (uint8_t)(lower >> 24);
    bool extended = (cmd & E1000_TXD_DEXT) != 0;
    size_t total;
    unsigned count;
    bool flat;
    if (extended && !((lower >> 20) & 15)) {
        e1000_tx_context(d, desc);
        return true;
    }
    if ((cmd & E1000_TXD_EOP) && !e1000_looped(d) && !net_can_send(&d->port))
        return false;
    total = d->tx.total;
    count = d->tx.count;
    flat = d->tx.flat;
    if (flat && (cmd & E1000_TXD_EOP)) /* what sending writes there lies within these: offsets of 8 bits */
        memcpy(d->tx_head, d->tx_flat, sizeof d->tx_head);
    if (!d->tx.started) {
        d->tx.started = true;
        d->tx.legacy = !extended;
        d->tx.popts = extended ? desc[13] : 0;
        d->tx.cmd = cmd;
        d->tx.cso = desc[10];
        d->tx.css = desc[13];
    }
    e1000_tx_add(d, ld64le(desc), extended ? lower & 0xFFFFF : lower & 0xFFFF);
    if (!(cmd & E1000_TXD_EOP))
        return true;
    d->tx.special = ld16le(desc + 14);
    d->tx.cmd = (uint8_t)((d->tx.cmd & ~E1000_TXD_VLE) | (cmd & (E1000_TXD_VLE | (extended ? 0 : E1000_TXD_IC))));
    if (!e1000_tx_send(d)) { /* as if it had not been looked at */
        d->tx.total = total;
        d->tx.count = count;
        d->tx.flat = flat;
        if (flat)
            memcpy(d->tx_flat, d->tx_head, sizeof d->tx_head);
        if (!total)
            d->tx.started = false;
        return false;
    }
    e1000_tx_forget(d);
    return true;
}

static void e1000_tx_run(struct e1000 *d)
{
    struct emu *e = d->pci.dev.emu;
    unsigned n = e1000_ring_entries(d, E1000_TDLEN), budget = n, delay = E1000_REG(d, E1000_TIDV) & 0xFFFF, low;
    uint64_t base = e1000_ring_base(d, E1000_TDBAL);
    bool done = false, delayed = false, any = false;
    uint32_t causes = 0;
    if (d->in_tx || !(E1000_REG(d, E1000_TCTL) & E1000_TCTL_EN) || !pci_bus_master(&d->pci) || E1000_REG(d, E1000_TDH) >= n)
        return;
    d->in_tx = true;
    while (E1000_REG(d, E1000_TDH) != E1000_REG(d, E1000_TDT) && budget--) {
        unsigned head = E1000_REG(d, E1000_TDH);
        uint64_t at = base + (uint64_t)head * E1000_DESC;
        uint8_t desc[E1000_DESC];
        dma_read(e, at, desc, sizeof desc);
        if (!e1000_tx_descriptor(d, desc))
            break;
        any = true;
        if (desc[11] & (E1000_TXD_RS | E1000_TXD_RPS)) {
            desc[12] |= E1000_TXD_DD;
            dma_write(e, at + 12, desc + 12, 1);
            if ((desc[11] & E1000_TXD_IDE) && delay)
                delayed = true;
            else
                done = true;
        }
        if (E1000_REG(d, E1000_TDH) != head || !(E1000_REG(d, E1000_TCTL) & E1000_TCTL_EN))
            break; /* reset by its own DMA */
        E1000_REG(d, E1000_TDH) = head + 1 == n ? 0 : head + 1;
    }
    d->in_tx = false;
    if (!any)
        return;
    if (E1000_REG(d, E1000_TDH) == E1000_REG(d, E1000_TDT))
        causes |= E1000_ICR_TXQE;
    low = (E1000_REG(d, E1000_TXDCTL) >> 25) * 8;
    if (low && (E1000_REG(d, E1000_TDT) + n - E1000_REG(d, E1000_TDH)) % n <= low)
        causes |= E1000_ICR_TXD_LOW;
    if (done) {
        timer_cancel(&d->tx_timer);
        timer_cancel(&d->tx_abs_timer);
        causes |= E1000_ICR_TXDW;
    } else if (delayed) {
        e1000_delay(d, &d->tx_timer, delay, &d->tx_abs_timer, E1000_REG(d, E1000_TADV) & 0xFFFF);
    }
    if (causes)
        e1000_cause(d, causes);
}

static void e1000_kick(struct net_port *p) { e1000_tx_run(p->opaque); }

/* ---- registers ---- */

/* §14.5: everything but the PHY, the statistics' meaning and the tables of filters, whose contents survive. */
static void e1000_mac_reset(struct e1000 *d)
{
    static const struct { uint16_t reg; uint32_t value; } initial[] = {
        { E1000_CTRL, 0x00000A09 }, { E1000_LEDCTL, 0x07068302 }, { E1000_PBA, 0x00100030 }, { E1000_TXDMAC, 1 }, { E1000_TIPG, 0x00602008 },
        { E1000_VET, 0x8100 }, { E1000_TXDCTL, 0 }, { E1000_RXDCTL, 0x00010000 }, { E1000_RXCSUM, 0 }, { E1000_TSPMT, 0x01000400 },
    };
    unsigned i;
    for (i = 0; i < E1000_MTA / 4; i++)
        d->reg[i] = 0;
    for (i = 0; i < EMU_ARRAY_LEN(initial); i++)
        d->reg[initial[i].reg / 4] = initial[i].value;
    for (i = 0; i < 16; i++)
        d->reg[E1000_RA / 4 + 2 * i + 1] &= 0x7FFFFFFFu;
    d->reg[E1000_RA / 4] = d->rom.words[0] | (uint32_t)d->rom.words[1] << 16;
    d->reg[E1000_RA / 4 + 1] = d->rom.words[2] | 0x80000000u;
    memset(d->stats, 0, sizeof d->stats);
    memset(&d->context, 0, sizeof d->context);
    memset(&d->tso, 0, sizeof d->tso);
    eeprom93_pins(&d->rom, false, false, false);
    e1000_tx_forget(d);
    d->fifo_start = d->fifo_end = 0;
    d->rx_any = d->rx_small = false;
    d->icr = d->ims = 0;
    timer_cancel(&d->itr_timer);
    timer_cancel(&d->rx_timer);
    timer_cancel(&d->rx_abs_timer);
    timer_cancel(&d->tx_timer);
    timer_cancel(&d->tx_abs_timer);
    d->ever_asserted = false;
    e1000_update_irq(d);
    if (d->wants_kick) {
        d->wants_kick = false;
        net_kick_peer(&d->port);
    }
}

/* Bits of plain storage that a guest can change; 0: not such a register. ethtool's register test of Linux walks most of these. */
static uint32_t e1000_storage_mask(unsigned offset)
{
    if (offset >= E1000_MTA && offset < E1000_MTA + 0x200)
        return 0xFFFFFFFFu;
    if (offset >= E1000_VFTA && offset < E1000_VFTA + 0x200)
        return 0xFFFFFFFFu;
    if (offset >= E1000_RA && offset < E1000_RA + 0x80)
        return offset & 4 ? 0x8003FFFFu : 0xFFFFFFFFu;
    if ((offset >= E1000_RDFH && offset <= E1000_RDFPC && !(offset & 4)) || (offset >= E1000_TDFH && offset <= E1000_TDFPC && !(offset & 4)))
        return 0x1FFF;
    switch (offset) {
    case E1000_CTRL_EXT: return 0xFFFFFFFFu & ~(uint32_t)(1 << 13);
    case E1000_FCAL: return 0xFFFFFFFFu;
    case E1000_FCAH:
    case E1000_FCT:
    case E1000_VET:
    case E1000_ITR:
    case E1000_FCTTV:
    case E1000_AIT:
    case E1000_RADV:
    case E1000_TIDV:
    case E1000_TADV: return 0xFFFF;
    case E1000_RSRPD: return 0xFFF;
    case E1000_TXCW: return 0xC000FFFFu;
    case E1000_TCTL: return 0x03FFFFFAu;
    case E1000_TIPG: return 0x3FFFFFFFu;
    case E1000_LEDCTL:
    case E1000_TXDMAC:
    case E1000_RXDCTL:
    case E1000_TXDCTL:
    case E1000_TSPMT: return 0xFFFFFFFFu;
    case E1000_PBA: return 0x00FFu;
    case E1000_FCRTL: return 0x8000FFF8u;
    case E1000_FCRTH: return 0xFFF8u;
    case E1000_RDBAL:
    case E1000_TDBAL: return 0xFFFFFFF0u;
    case E1000_RDBAH:
    case E1000_TDBAH: return 0xFFFFFFFFu;
    case E1000_RDLEN:
    case E1000_TDLEN: return 0x000FFF80u;
    case E1000_RDH:
    case E1000_TDH: return 0xFFFF;
    case E1000_RXCSUM: return 0x07FF;
    default: return 0;
    }
}

static uint32_t e1000_reg_read(struct e1000 *d, unsigned offset)
{
    uint32_t v;
    if (offset >= E1000_STATS && offset < E1000_STATS_END)
        return e1000_stat_read(d, (offset - E1000_STATS) / 4);
    switch (offset) {
    case E1000_CTRL:
    case E1000_CTRL_DUP: return E1000_REG(d, E1000_CTRL);
    case E1000_STATUS: return e1000_status(d);
    case E1000_EECD: return e1000_eecd_read(d);
    case E1000_EERD:
    case E1000_MDIC:
    case E1000_RCTL:
    case E1000_RDT:
    case E1000_TDT:
    case E1000_RDTR:
    case E1000_RXCW: return d->reg[offset / 4];
    case E1000_ICR:
        v = d->icr;
        d->icr = 0;
        e1000_update_irq(d);
        return v;
    case E1000_IMS: return d->ims;
    case E1000_ICS:
    case E1000_IMC: return 0;
    default: break;
    }
    if (e1000_storage_mask(offset))
        return d->reg[offset / 4];
    if (offset < E1000_WUC || offset >= E1000_WAKE_END)
        emu_log_once(d->pci.dev.emu, &d->said_unknown, LOG_UNIMP, "e1000: register 0x%04x reads zero", offset);
    return 0;
}

static void e1000_reg_write(struct e1000 *d, unsigned offset, uint32_t v)
{
    uint32_t mask;
    switch (offset) {
    case E1000_CTRL:
    case E1000_CTRL_DUP:
        if (v >> 31) /* PHY_RST */
            e1000_phy_reset(d);
        if (v & E1000_CTRL_RST)
            e1000_mac_reset(d);
        else
            E1000_REG(d, E1000_CTRL) = v & 0x7BFFFFFFu;
        return;
    case E1000_STATUS: return;
    case E1000_EECD: e1000_eecd_write(d, v); return;
    case E1000_EERD: e1000_eerd_write(d, v); return;
    case E1000_MDIC: e1000_mdic_write(d, v); return;
    case E1000_CTRL_EXT:
        E1000_REG(d, E1000_CTRL_EXT) = v & ~(uint32_t)(1 << 13);
        if (v & 1 << 13) { /* EE_RST */
            d->reg[E1000_RA / 4] = d->rom.words[0] | (uint32_t)d->rom.words[1] << 16;
            d->reg[E1000_RA / 4 + 1] = d->rom.words[2] | 0x80000000u;
        }
        return;
    case E1000_ICR:
        d->icr &= ~v;
        e1000_update_irq(d);
        return;
    case E1000_ICS: e1000_cause(d, v); return;
    case E1000_IMS:
        d->ims |= v & E1000_ICR_ALL;
        e1000_update_irq(d);
        return;
    case E1000_IMC:
        d->ims &= ~v;
        e1000_update_irq(d);
        return;
    case E1000_ITR:
        E1000_REG(d, E1000_ITR) = v & 0xFFFF;
        timer_cancel(&d->itr_timer);
        e1000_update_irq(d);
        return;
    case E1000_RCTL:
        E1000_REG(d, E1000_RCTL) = v & 0x06DFB3FEu;
        e1000_rx_resume(d);
        return;
    case E1000_RDT:
        E1000_REG(d, E1000_RDT) = v & 0xFFFF;
        e1000_rx_resume(d);
        return;
    case E1000_RDTR:
        E1000_REG(d, E1000_RDTR) = v & 0xFFFF;
        if ((v >> 31) && (timer_armed(&d->rx_timer) || timer_armed(&d->rx_abs_timer))) /* FPD */
            e1000_rx_passed(d);
        return;
    case E1000_TDT:
        E1000_REG(d, E1000_TDT) = v & 0xFFFF;
        e1000_tx_run(d);
        return;
    case E1000_TCTL:
        E1000_REG(d, E1000_TCTL) = v & e1000_storage_mask(E1000_TCTL);
        e1000_tx_run(d);
        return;
    case E1000_PBA:
        E1000_REG(d, E1000_PBA) = (v & 0xFF) | (64 - EMU_MIN(v & 0xFF, 63u)) << 16; /* 64 KiB between receive and transmit */
        return;
    default: break;
    }
    mask = e1000_storage_mask(offset);
    if (mask)
        d->reg[offset / 4] = v & mask;
    else if (offset < E1000_STATS || (offset >= E1000_STATS_END && (offset < E1000_WUC || offset >= E1000_WAKE_END)))
        emu_log_once(d->pci.dev.emu, &d->said_unknown, LOG_UNIMP, "e1000: write to register 0x%04x ignored", offset);
}

static uint64_t e1000_mem_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)size;
    return offset < E1000_REGISTERS ? e1000_reg_read(opaque, (unsigned)offset & ~3u) : 0;
}

static void e1000_mem_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    if (offset < E1000_REGISTERS)
        e1000_reg_write(opaque, (unsigned)offset & ~3u, (uint32_t)value);
}

/* §13.2.2.1: IOADDR and IODATA. */
static uint64_t e1000_io_read(void *opaque, uint64_t offset, unsigned size)
{
    struct e1000 *d = opaque;
    (void)size;
    if (offset == 0)
        return d->io_address;
    return offset == 4 && d->io_address < E1000_REGISTERS ? e1000_reg_read(d, d->io_address & ~3u) : 0;
}

static void e1000_io_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct e1000 *d = opaque;
    (void)size;
    if (offset == 0)
        d->io_address = (uint32_t)value & (E1000_BAR_BYTES - 1);
    else if (offset == 4 && d->io_address < E1000_REGISTERS)
        e1000_reg_write(d, d->io_address & ~3u, (uint32_t)value);
}

static const struct region_ops e1000_mem_ops = { e1000_mem_read, e1000_mem_write, 4, 4, false };
static const struct region_ops e1000_io_ops = { e1000_io_read, e1000_io_write, 4, 4, false };

/* ---- life ---- */

static void e1000_reset(struct device *dev)
{
    struct e1000 *d = (struct e1000 *)dev;
    d->io_address = 0;
    memset(d->reg + E1000_MTA / 4, 0, sizeof d->reg - E1000_MTA);
    e1000_phy_reset(d);
    e1000_mac_reset(d);
}

static void e1000_destroy(struct device *dev)
{
    struct e1000 *d = (struct e1000 *)dev;
    timer_cancel(&d->itr_timer);
    timer_cancel(&d->rx_timer);
    timer_cancel(&d->rx_abs_timer);
    timer_cancel(&d->tx_timer);
    timer_cancel(&d->tx_abs_timer);
    if (d->port.opaque)
        net_port_unregister(dev->emu, &d->port);
    pci_device_remove(&d->pci);
    emu_free(dev->emu, d->tx_flat);
    emu_free(dev->emu, d->rx_flat);
    emu_free(dev->emu, d->fifo);
}

static void e1000_info(struct net_port *p, struct buf *out)
{
    struct e1000 *d = p->opaque;
    buf_printf(out, "model=e1000,macaddr=%02x:%02x:%02x:%02x:%02x:%02x", d->mac[0], d->mac[1], d->mac[2], d->mac[3], d->mac[4], d->mac[5]);
}

static int e1000_create(struct device *dev, struct options *opts, struct err *err)
{
    struct e1000 *d = (struct e1000 *)dev;
    struct emu *e = dev->emu;
    int devfn = -1, r;
    timer_init(&d->itr_timer, e, e1000_itr_passed, d);
    timer_init(&d->rx_timer, e, e1000_rx_passed, d);
    timer_init(&d->rx_abs_timer, e, e1000_rx_passed, d);
    timer_init(&d->tx_timer, e, e1000_tx_passed, d);
    timer_init(&d->tx_abs_timer, e, e1000_tx_passed, d);
    if ((r = pci_parse_devfn(opts, &devfn, err)) || (r = net_mac_option(e, opts, d->mac, err)) ||
        (r = pci_device_init(&d->pci, devfn, 0x8086, 0x100E, 0x02000003, err)))
        return r;
    d->pci.config[0x3D] = 1;    /* INTA# */
    d->pci.config[0x3E] = 0xFF; /* MIN_GNT */
    pci_add_bar_io(&d->pci, 0, "e1000", E1000_BAR_BYTES, false, &e1000_mem_ops, d);
    pci_add_bar_io(&d->pci, 1, "e1000-io", 64, true, &e1000_io_ops, d);
    e1000_eeprom_fill(d);
    d->port.opaque = d;
    d->port.takes_gso = d->port.takes_csum = true;
    d->port.max_frame = E1000_RX_MAX;
    d->port.can_receive = e1000_can_receive;
    d->port.receive = e1000_receive;
    d->port.kick = e1000_kick;
    d->port.link_changed = e1000_link_changed;
    d->port.info = e1000_info;
    net_nic_register(e, &d->port, dev->cls->name, dev->id);
    d->tx_flat = emu_alloc(e, E1000_ROOM + E1000_TX_MAX);
    d->rx_flat = emu_alloc(e, E1000_RX_MAX + 8);
    r = d->tx_flat && d->rx_flat ? net_nic_attach(e, &d->port, opts, err) : err_set(err, EMU_ENOMEM, "e1000: out of memory");
    if (r)
        e1000_destroy(dev);
    else
        e1000_phy_reset(d);
    return r;
}

static const struct opt_desc e1000_options[] = {
    { "mac", "mac", "station address" },
    { "netdev", "netdev", "id of the backend" },
    { "addr", "str", "PCI slot[.function]" },
    { "bus", "str", "pci.0" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class e1000_class = {
    .name = "e1000", .bus = "pci", .help = "Intel 82540EM gigabit Ethernet", .options = e1000_options, .instance_size = sizeof(struct e1000),
    .create = e1000_create, .reset = e1000_reset, .destroy = e1000_destroy, .user_creatable = true,
};
#undef E1000_REG
