/* dev/ne2k.c - Realtek RTL8029AS: an NE2000 on the PCI bus ("ne2k_pci").
 *
 * Models     DP8390D data sheet (National, 1995) for the controller, RTL8029AS data sheet for ids and its page 3, the NE2000's layout of
 *            station address PROM, 32 KiB of packet memory and data port.
 * Contract   As e1000.c: a NIC of -nic, -net and -device; frames go through struct net_port.
 * Theory     Everything lives in the card's own memory: received frames in a ring of 256-byte pages between PSTART and PSTOP, written at CURR and
 *            read up to BNRY; the packet to send at TPSR. The guest moves bytes through the data port ("remote DMA"), no DMA reaches the guest's RAM.
 * Invariants 1. INTA# is asserted exactly while ISR & IMR (bits 0-6) is not 0.
 *            2. No page or address register, whatever its value, leads outside mem[] (ne2k_at).
 *            3. While a sender waits for room and the ring holds frames, PRX stays set: Linux reads nine frames, clears PRX, and on a wire the
 *               next frame (or its overwrite warning) would bring it back for the rest.
 * Missing    The overwrite warning (senders wait instead), FIFO mode, collision counters (there are none here), the flash, the EEPROM of page 3 beyond its configuration bytes.
 */
#include "../machine.h"
#include "../net/net.h"
#include "dev.h"

enum {
    NE2K_CR = 0, NE2K_DATA = 0x10, NE2K_RESET_PORT = 0x18, NE2K_PAGE = 256, NE2K_MEM_START = 0x4000, NE2K_MEM_END = 0xC000, NE2K_PROM_BYTES = 32,
    NE2K_CR_STP = 1, NE2K_CR_STA = 2, NE2K_CR_TXP = 4, NE2K_CR_RD = 0x38, NE2K_CR_RD_ABORT = 0x20,
    NE2K_ISR_PRX = 1, NE2K_ISR_PTX = 2, NE2K_ISR_OVW = 0x10, NE2K_ISR_RDC = 0x40, NE2K_ISR_RST = 0x80,
    NE2K_RCR_AB = 4, NE2K_RCR_AM = 8, NE2K_RCR_PRO = 0x10, NE2K_RCR_MON = 0x20, NE2K_TCR_LB = 6, NE2K_DCR_WTS = 1, NE2K_DCR_LS = 8,
    NE2K_RSR_PRX = 1, NE2K_RSR_PHY = 0x20, NE2K_TSR_PTX = 1, NE2K_FRAME_MAX = 1518, NE2K_MIN_FRAME = 60
};

struct ne2k {
    struct pci_device pci;
    struct net_port port;
    uint8_t mac[6];
    uint8_t cr, isr, imr, rcr, tcr, dcr, tsr, rsr, pstart, pstop, bnry, curr, tpsr, par[6], mar[8], config[4];
    uint16_t tbcr, rsar, rbcr;
    bool sending, tx_waits, wants_kick;
    uint8_t prom[NE2K_PROM_BYTES];
    uint8_t mem[NE2K_MEM_END - NE2K_MEM_START];
};

/* A byte of the card's address space: PROM (each byte twice) below 4000h, packet memory above; NULL: nothing there. */
static uint8_t *ne2k_at(struct ne2k *d, unsigned address)
{
    if (address < NE2K_PROM_BYTES)
        return d->prom + address;
    if (address >= NE2K_MEM_START && address < NE2K_MEM_END)
        return d->mem + (address - NE2K_MEM_START);
    return NULL;
}

static void ne2k_update_irq(struct ne2k *d) { pci_set_intx(&d->pci, (d->isr & d->imr & 0x7F) != 0); }
static void ne2k_cause(struct ne2k *d, unsigned bits)
{
    d->isr |= (uint8_t)bits;
    ne2k_update_irq(d);
}

/* ---- receive ---- */

static bool ne2k_rx_on(const struct ne2k *d) { return !(d->cr & NE2K_CR_STP) && !(d->rcr & NE2K_RCR_MON) && d->pstop > d->pstart && (d->tcr & NE2K_TCR_LB) == 0; }

static unsigned ne2k_free_pages(const struct ne2k *d)
{
    unsigned n = (unsigned)(d->pstop - d->pstart);
    unsigned bnry = d->bnry < d->pstart || d->bnry >= d->pstop ? d->pstop - 1u : d->bnry; /* Linux writes PSTART - 1 for "all read" at the wrap */
    if (d->curr < d->pstart || d->curr >= d->pstop)
        return 0;
    return d->curr < bnry ? bnry - d->curr : n - (d->curr - bnry);
}

/* Everything up to CURR was read: BNRY is CURR, or (Linux) the page before it. */
static bool ne2k_ring_is_empty(const struct ne2k *d)
{
    unsigned next = d->bnry + 1u < d->pstop ? d->bnry + 1u : d->pstart;
    return d->curr == d->bnry || d->curr == next;
}

static bool ne2k_match(const struct ne2k *d, const uint8_t *f)
{
    uint32_t crc = 0xFFFFFFFFu;
    unsigned i, bit;
    if (d->rcr & NE2K_RCR_PRO)
        return true;
    if (ld32be(f) == 0xFFFFFFFFu && ld16be(f + 4) == 0xFFFF)
        return (d->rcr & NE2K_RCR_AB) != 0;
    if (!(f[0] & 1))
        return !memcmp(f, d->par, 6);
    if (!(d->rcr & NE2K_RCR_AM))
        return false;
    for (i = 0; i < 6; i++)
        for (bit = 0; bit < 8; bit++) {
            bool out = ((crc >> 31) ^ (uint32_t)(f[i] >> bit)) & 1;
            crc = crc << 1 ^ (out ? 0x04C11DB7u : 0);
        }
    crc >>= 26;
    return (d->mar[crc >> 3] >> (crc & 7)) & 1;
}

static bool ne2k_can_receive(struct net_port *p)
{
    struct ne2k *d = p->opaque;
    if (!ne2k_rx_on(d) || ne2k_free_pages(d) > (NE2K_FRAME_MAX + 8) / NE2K_PAGE + 1)
        return true;
    d->wants_kick = true;
    return false;
}

static void ne2k_put(struct ne2k *d, unsigned *at, uint8_t v)
{
    uint8_t *p = ne2k_at(d, *at);
    if (p)
        *p = v;
    *at = *at + 1 == (unsigned)d->pstop * NE2K_PAGE ? (unsigned)d->pstart * NE2K_PAGE : *at + 1;
}

static int ne2k_receive(struct net_port *p, const struct net_frame *f)
{
    struct ne2k *d = p->opaque;
    uint8_t bytes[NE2K_FRAME_MAX];
    size_t size = f->size, i;
    unsigned pages, at, next, count;
    if (!ne2k_rx_on(d) || size < 14 || size > sizeof bytes)
        return 1;
    if (!ne2k_can_receive(p))
        return 0;
    net_frame_copy(f, 0, bytes, size);
    if (!ne2k_match(d, bytes))
        return 1;
    if (size < NE2K_MIN_FRAME) {
        memset(bytes + size, 0, NE2K_MIN_FRAME - size);
        size = NE2K_MIN_FRAME;
    }
    count = (unsigned)size + 4; /* with FCS, without this header */
    pages = (count + 4 + NE2K_PAGE - 1) / NE2K_PAGE;
    next = d->curr + pages;
    if (next >= d->pstop)
        next -= (unsigned)(d->pstop - d->pstart);
    d->rsr = NE2K_RSR_PRX | (bytes[0] & 1 ? NE2K_RSR_PHY : 0);
    at = (unsigned)d->curr * NE2K_PAGE;
    ne2k_put(d, &at, d->rsr);
    ne2k_put(d, &at, (uint8_t)next);
    ne2k_put(d, &at, (uint8_t)count);
    ne2k_put(d, &at, (uint8_t)(count >> 8));
    for (i = 0; i < size; i++)
        ne2k_put(d, &at, bytes[i]);
    d->curr = (uint8_t)next;
    ne2k_cause(d, NE2K_ISR_PRX);
    return 1;
}

static void ne2k_rx_resume(struct ne2k *d)
{
    if (d->wants_kick && (!ne2k_rx_on(d) || ne2k_free_pages(d) > (NE2K_FRAME_MAX + 8) / NE2K_PAGE + 1)) {
        d->wants_kick = false;
        net_kick_peer(&d->port);
    }
}

/* ---- transmit ---- */

static void ne2k_transmit(struct ne2k *d)
{
    struct host_iov piece;
    struct net_frame f;
    unsigned at = (unsigned)d->tpsr * NE2K_PAGE, size = d->tbcr;
    if (d->sending)
        return;
    if (at < NE2K_MEM_START || at + size > NE2K_MEM_END)
        size = 0;
    d->tx_waits = false;
    if (size >= 14 && (d->tcr & NE2K_TCR_LB) == 0) {
        memset(&f, 0, sizeof f);
        piece.base = d->mem + (at - NE2K_MEM_START);
        piece.size = size;
        f.pieces = &piece;
        f.count = 1;
        f.size = size;
        d->sending = true;
        d->tx_waits = !net_send(&d->port, &f);
        d->sending = false;
        if (d->tx_waits)
            return;
    }
    d->cr &= (uint8_t)~NE2K_CR_TXP;
    d->tsr = NE2K_TSR_PTX;
    ne2k_cause(d, NE2K_ISR_PTX);
}

static void ne2k_kick(struct net_port *p)
{
    struct ne2k *d = p->opaque;
    if (d->tx_waits)
        ne2k_transmit(d);
}

/* ---- registers ---- */

static void ne2k_chip_reset(struct ne2k *d)
{
    d->cr = NE2K_CR_STP | NE2K_CR_RD_ABORT;
    d->isr = NE2K_ISR_RST;
    d->imr = 0;
    d->tx_waits = false;
    d->rbcr = 0;
    ne2k_update_irq(d);
    ne2k_rx_resume(d);
}

static void ne2k_command(struct ne2k *d, uint8_t v)
{
    d->cr = v | (d->tx_waits ? NE2K_CR_TXP : 0); /* TXP falls when the packet is gone, not by a write */
    if (v & NE2K_CR_STP) {
        d->isr |= NE2K_ISR_RST;
        d->cr &= (uint8_t)~NE2K_CR_TXP;
        d->tx_waits = false;
    } else {
        d->isr &= (uint8_t)~NE2K_ISR_RST;
        if (((v & NE2K_CR_RD) == 0x08 || (v & NE2K_CR_RD) == 0x10) && !d->rbcr)
            ne2k_cause(d, NE2K_ISR_RDC);
        if ((v & NE2K_CR_TXP) && !d->tx_waits)
            ne2k_transmit(d);
    }
    ne2k_rx_resume(d);
}

static void ne2k_reg_write(struct ne2k *d, unsigned r, uint8_t v)
{
    unsigned page = d->cr >> 6;
    if (r == NE2K_CR) {
        ne2k_command(d, v);
    } else if (page == 0) {
        switch (r) {
        case 1: d->pstart = v; break;
        case 2: d->pstop = EMU_MIN(v, NE2K_MEM_END / NE2K_PAGE); break;
        case 3:
            d->bnry = v;
            ne2k_rx_resume(d);
            break;
        case 4: d->tpsr = v; break;
        case 5: d->tbcr = (uint16_t)((d->tbcr & 0xFF00) | v); break;
        case 6: d->tbcr = (uint16_t)((d->tbcr & 0x00FF) | v << 8); break;
        case 7:
            d->isr &= (uint8_t)~(v & 0x7F);
            if (d->wants_kick && ne2k_rx_on(d) && !ne2k_ring_is_empty(d))
                d->isr |= NE2K_ISR_PRX; /* invariant 3 */
            ne2k_update_irq(d);
            break;
        case 8: d->rsar = (uint16_t)((d->rsar & 0xFF00) | v); break;
        case 9: d->rsar = (uint16_t)((d->rsar & 0x00FF) | v << 8); break;
        case 10: d->rbcr = (uint16_t)((d->rbcr & 0xFF00) | v); break;
        case 11: d->rbcr = (uint16_t)((d->rbcr & 0x00FF) | v << 8); break;
        case 12: d->rcr = v; break;
        case 13: d->tcr = v; break;
        case 14: d->dcr = v; break;
        default:
            d->imr = v;
            ne2k_update_irq(d);
            break;
        }
    } else if (page == 1) {
        if (r <= 6)
            d->par[r - 1] = v;
        else if (r == 7)
            d->curr = v;
        else
            d->mar[r - 8] = v;
    } else if (page == 3 && r >= 3 && r <= 6) {
        d->config[r - 3] = v;
    }
}

static uint8_t ne2k_reg_read(struct ne2k *d, unsigned r)
{
    unsigned page = d->cr >> 6;
    if (r == NE2K_CR)
        return d->cr;
    if (page == 1)
        return r <= 6 ? d->par[r - 1] : r == 7 ? d->curr : d->mar[r - 8];
    if (page == 2) { /* what page 0 was given */
        switch (r) {
        case 1: return d->pstart;
        case 2: return d->pstop;
        case 4: return d->tpsr;
        case 12: return d->rcr | 0xC0;
        case 13: return d->tcr | 0xE0;
        case 14: return d->dcr | 0x80;
        case 15: return d->imr | 0x80;
        default: return 0;
        }
    }
    if (page == 3)
        return r >= 3 && r <= 6 ? d->config[r - 3] : 0;
    switch (r) {
    case 1: return (uint8_t)d->rsar;
    case 2: return (uint8_t)(d->rsar >> 8);
    case 3: return d->bnry;
    case 4: return d->tsr;
    case 7: return d->isr;
    case 8: return (uint8_t)d->rsar;
    case 9: return (uint8_t)(d->rsar >> 8);
    case 10: return 0x50; /* "PC": the 8029's mark */
    case 11: return 0x43;
    case 12: return d->rsr;
    default: return 0;
    }
}

/* The next byte of remote DMA. */
static void ne2k_remote_step(struct ne2k *d)
{
    d->rsar++;
    if (d->rsar == (unsigned)d->pstop * NE2K_PAGE)
        d->rsar = (uint16_t)(d->pstart * NE2K_PAGE);
    if (d->rbcr && --d->rbcr == 0)
        ne2k_cause(d, NE2K_ISR_RDC);
}

/* Bytes that one access to the data port moves: with DCR.WTS whole words, also by an 8-bit access. */
static unsigned ne2k_port_bytes(const struct ne2k *d, unsigned size) { return d->dcr & NE2K_DCR_WTS && size < 2 ? 2 : size; }

static uint64_t ne2k_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ne2k *d = opaque;
    uint64_t v = 0;
    unsigned i, r = (unsigned)offset & 0x1F, bytes = ne2k_port_bytes(d, size);
    if (r >= NE2K_RESET_PORT) {
        ne2k_chip_reset(d);
        return 0;
    }
    for (i = 0; r < NE2K_DATA && i < size; i++)
        v |= (uint64_t)ne2k_reg_read(d, (r + i) & 15) << (8 * i);
    for (i = 0; r >= NE2K_DATA && i < bytes; i++) {
        const uint8_t *p = ne2k_at(d, d->rsar);
        if (i < size)
            v |= (uint64_t)(p ? *p : 0xFF) << (8 * i);
        ne2k_remote_step(d);
    }
    return v;
}

static void ne2k_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ne2k *d = opaque;
    unsigned i, r = (unsigned)offset & 0x1F, bytes = ne2k_port_bytes(d, size);
    if (r >= NE2K_RESET_PORT)
        return; /* the end of a reset pulse */
    for (i = 0; r < NE2K_DATA && i < size; i++)
        ne2k_reg_write(d, (r + i) & 15, (uint8_t)(value >> (8 * i)));
    for (i = 0; r >= NE2K_DATA && i < bytes && d->rbcr; i++) {
        uint8_t *p = ne2k_at(d, d->rsar);
        if (p && d->rsar >= NE2K_MEM_START)
            *p = (uint8_t)(value >> (8 * i));
        ne2k_remote_step(d);
    }
}

static const struct region_ops ne2k_ops = { ne2k_read, ne2k_write, 1, 4, true };

/* ---- life ---- */

static void ne2k_reset(struct device *dev)
{
    struct ne2k *d = (struct ne2k *)dev;
    unsigned i;
    memset(d->prom, 0, sizeof d->prom);
    for (i = 0; i < 6; i++)
        d->prom[2 * i] = d->prom[2 * i + 1] = d->mac[i];
    d->prom[28] = d->prom[29] = d->prom[30] = d->prom[31] = 0x57; /* a 16-bit card */
    ne2k_chip_reset(d);
}

static void ne2k_destroy(struct device *dev)
{
    struct ne2k *d = (struct ne2k *)dev;
    if (d->port.opaque)
        net_port_unregister(dev->emu, &d->port);
    pci_device_remove(&d->pci);
}

static void ne2k_info(struct net_port *p, struct buf *out)
{
    struct ne2k *d = p->opaque;
    buf_printf(out, "model=ne2k_pci,macaddr=%02x:%02x:%02x:%02x:%02x:%02x", d->mac[0], d->mac[1], d->mac[2], d->mac[3], d->mac[4], d->mac[5]);
}

static int ne2k_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ne2k *d = (struct ne2k *)dev;
    struct emu *e = dev->emu;
    int devfn = -1, r;
    if ((r = pci_parse_devfn(opts, &devfn, err)) || (r = net_mac_option(e, opts, d->mac, err)) ||
        (r = pci_device_init(&d->pci, devfn, 0x10EC, 0x8029, 0x02000000, err)))
        return r;
    d->pci.config[0x3D] = 1;
    pci_add_bar_io(&d->pci, 0, "ne2k", 256, true, &ne2k_ops, d);
    d->port.opaque = d;
    d->port.max_frame = NE2K_FRAME_MAX;
    d->port.can_receive = ne2k_can_receive;
    d->port.receive = ne2k_receive;
    d->port.kick = ne2k_kick;
    d->port.info = ne2k_info;
    net_nic_register(e, &d->port, dev->cls->name, dev->id);
    if ((r = net_nic_attach(e, &d->port, opts, err)))
        ne2k_destroy(dev);
    return r;
}

static const struct opt_desc ne2k_options[] = {
    { "mac", "mac", "station address" },
    { "netdev", "netdev", "id of the backend" },
    { "addr", "str", "PCI slot[.function]" },
    { "bus", "str", "pci.0" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class ne2k_class = {
    .name = "ne2k_pci", .bus = "pci", .help = "NE2000 on the PCI bus (RTL8029AS)", .options = ne2k_options, .instance_size = sizeof(struct ne2k),
    .create = ne2k_create, .reset = ne2k_reset, .destroy = ne2k_destroy, .user_creatable = true,
};
