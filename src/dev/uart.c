/* dev/uart.c - 16550A serial port ("isa-serial").
 *
 * Models     National Semiconductor PC16550D data sheet (June 1995): registers §8, FIFO operation §8.11-8.12, loopback §8.8.
 * Contract   board.c creates one for each -serial: COM1-COM4 at 3F8h/2F8h/3E8h/2E8h, IRQ 4/3/4/3, or iobase=, irq=. Bytes go to and
 *            come from a struct chr; without one, output vanishes and the line is silent.
 * Theory     Nothing is paced by the baud rate: a byte written is offered to chr at once, and THRE follows as soon as chr has it. When
 *            chr is full the bytes wait in the transmitter FIFO (THRE stays 0) until chr calls writable(). Input is taken only as far as the
 *            receiver FIFO has room, so no byte is ever lost. The divisor matters for one thing only: the receiver time-out
 *            interrupt, four characters after the last one moved.
 * Invariants 1. The line is high exactly while uart_cause() names an interrupt that IER enables.
 *            2. rx_count <= 16, and <= 1 with FIFOs off; tx_count likewise.
 *            3. timeout_timer is armed only while the receiver FIFO holds fewer bytes than its trigger level.
 * Missing    OUT2 does not gate the line (neither in QEMU; some guests forget to set it). Parity and framing errors never happen. A break
 *            that the guest sends goes nowhere.
 */
#include "../machine.h"
#include "dev.h"

#define UART_FIFO_BYTES 16u
#define UART_CLOCK_HZ 115200 /* 1.8432 MHz / 16 */

enum { UART_IER_RDA = 1, UART_IER_THRE = 2, UART_IER_RLS = 4, UART_IER_MSI = 8 };
enum { /* IIR §8.6 */
    UART_IIR_NONE = 0x01,
    UART_IIR_MSI = 0x00,
    UART_IIR_THRE = 0x02,
    UART_IIR_RDA = 0x04,
    UART_IIR_RLS = 0x06,
    UART_IIR_TIMEOUT = 0x0C,
    UART_IIR_FIFO = 0xC0
};
enum { UART_FCR_ENABLE = 1, UART_FCR_CLEAR_RX = 2, UART_FCR_CLEAR_TX = 4 };
enum { UART_LCR_STOP2 = 4, UART_LCR_PARITY = 8, UART_LCR_DLAB = 0x80 };
enum { UART_MCR_DTR = 1, UART_MCR_RTS = 2, UART_MCR_OUT1 = 4, UART_MCR_OUT2 = 8, UART_MCR_LOOP = 0x10 };
enum { UART_LSR_DR = 1, UART_LSR_OE = 2, UART_LSR_PE = 4, UART_LSR_FE = 8, UART_LSR_BI = 0x10, UART_LSR_THRE = 0x20, UART_LSR_TEMT = 0x40, UART_LSR_FIFO_ERROR = 0x80 };
enum { UART_LSR_ERRORS = UART_LSR_OE | UART_LSR_PE | UART_LSR_FE | UART_LSR_BI };
enum { UART_MSR_DCTS = 1, UART_MSR_DDSR = 2, UART_MSR_TERI = 4, UART_MSR_DDCD = 8, UART_MSR_CTS = 0x10, UART_MSR_DSR = 0x20, UART_MSR_RI = 0x40, UART_MSR_DCD = 0x80 };

struct uart {
    struct device dev;
    struct region ports;
    struct irq irq;
    struct chr *chr;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
    uint16_t divisor;
    bool thre_pending;    /* "transmitter holding register empty" not yet acknowledged */
    bool timeout_pending; /* receiver time-out */
    uint8_t trigger;      /* receiver level, 1 with FIFOs off */
    uint8_t rx[UART_FIFO_BYTES], rx_flags[UART_FIFO_BYTES]; /* flags: LSR error bits that belong to the byte */
    uint8_t rx_head, rx_count;
    uint8_t tx[UART_FIFO_BYTES], tx_head, tx_count;
    uint8_t last_rx; /* what an empty receiver buffer reads */
    struct timer timeout_timer;
    struct nap_watch nap; /* who reads "no data" again and again sleeps between */
};

/* ---- interrupts ---- */

static uint8_t uart_cause(const struct uart *u)
{
    if ((u->ier & UART_IER_RLS) && (u->lsr & UART_LSR_ERRORS))
        return UART_IIR_RLS;
    if ((u->ier & UART_IER_RDA) && u->timeout_pending)
        return UART_IIR_TIMEOUT;
    if ((u->ier & UART_IER_RDA) && u->rx_count && u->rx_count >= u->trigger)
        return UART_IIR_RDA;
    if ((u->ier & UART_IER_THRE) && u->thre_pending)
        return UART_IIR_THRE;
    if ((u->ier & UART_IER_MSI) && (u->msr & 15))
        return UART_IIR_MSI;
    return UART_IIR_NONE;
}

static void uart_update(struct uart *u) { irq_set(&u->irq, uart_cause(u) != UART_IIR_NONE); }

static unsigned uart_capacity(const struct uart *u) { return u->fcr & UART_FCR_ENABLE ? UART_FIFO_BYTES : 1; }

/* ---- receiver ---- */

static int64_t uart_char_ns(const struct uart *u)
{
    unsigned bits = 1 + 5 + (u->lcr & 3) + (u->lcr & UART_LCR_PARITY ? 1 : 0) + (u->lcr & UART_LCR_STOP2 ? 2 : 1);
    return NS_PER_SEC / UART_CLOCK_HZ * (u->divisor ? u->divisor : 1) * bits;
}

/* After each byte that moved: error bits of the byte at the front, time-out, level. */
static void uart_rx_changed(struct uart *u)
{
    unsigned i;
    u->timeout_pending = false;
    timer_cancel(&u->timeout_timer);
    u->lsr &= (uint8_t) ~(UART_LSR_DR | UART_LSR_FIFO_ERROR);
    if (u->rx_count) {
        u->lsr |= UART_LSR_DR;
        u->lsr |= u->rx_flags[u->rx_head];
        u->rx_flags[u->rx_head] = 0;
        for (i = 1; i < u->rx_count; i++)
            if (u->rx_flags[(u->rx_head + i) % UART_FIFO_BYTES])
                u->lsr |= UART_LSR_FIFO_ERROR;
        if ((u->fcr & UART_FCR_ENABLE) && u->rx_count < u->trigger)
            timer_arm(&u->timeout_timer, emu_now_ns(u->dev.emu) + 4 * uart_char_ns(u));
    }
    uart_update(u);
}

static void uart_timeout(void *opaque)
{
    struct uart *u = opaque;
    if (u->rx_count) {
        u->timeout_pending = true;
        uart_update(u);
    }
}

static void uart_rx_put(struct uart *u, uint8_t byte, uint8_t flags)
{
    if (u->rx_count >= uart_capacity(u)) {
        u->lsr |= UART_LSR_OE;
        if (!(u->fcr & UART_FCR_ENABLE)) /* the holding register is overwritten, the FIFO is not (§8.4) */
            u->rx[u->rx_head] = byte;
        uart_update(u);
        return;
    }
    u->rx[(u->rx_head + u->rx_count) % UART_FIFO_BYTES] = byte;
    u->rx_flags[(u->rx_head + u->rx_count) % UART_FIFO_BYTES] = flags;
    u->rx_count++;
}

static size_t uart_can_receive(void *opaque)
{
    const struct uart *u = opaque;
    return u->mcr & UART_MCR_LOOP ? 0 : uart_capacity(u) - u->rx_count;
}

static void uart_receive(void *opaque, const uint8_t *buf, size_t size)
{
    struct uart *u = opaque;
    size_t i;
    for (i = 0; i < size; i++)
        uart_rx_put(u, buf[i], 0);
    uart_rx_changed(u);
}

static void uart_event(void *opaque, enum chr_event event)
{
    struct uart *u = opaque;
    if (event == CHR_BREAK && !(u->mcr & UART_MCR_LOOP)) {
        uart_rx_put(u, 0, UART_LSR_BI);
        uart_rx_changed(u);
    }
}

static uint8_t uart_read_rbr(struct uart *u)
{
    if (u->rx_count) {
        u->last_rx = u->rx[u->rx_head];
        u->rx_head = (uint8_t)((u->rx_head + 1) % UART_FIFO_BYTES);
        u->rx_count--;
        uart_rx_changed(u);
        if (u->chr && !(u->mcr & UART_MCR_LOOP))
            chr_accept_input(u->chr);
    }
    return u->last_rx;
}

static void uart_clear_rx(struct uart *u)
{
    u->rx_head = u->rx_count = 0;
    memset(u->rx_flags, 0, sizeof u->rx_flags);
    uart_rx_changed(u);
}

/* ---- transmitter ---- */

/* Offers the FIFO to chr; the rest waits for uart_writable(). */
static void uart_transmit(struct uart *u)
{
    while (u->tx_count) {
        unsigned n = EMU_MIN(u->tx_count, UART_FIFO_BYTES - u->tx_head);
        int taken = chr_write(u->chr, u->tx + u->tx_head, n);
        if (taken <= 0)
            return;
        u->dev.emu->serial_bytes += (unsigned)taken;
        u->tx_head = (uint8_t)((u->tx_head + (unsigned)taken) % UART_FIFO_BYTES);
        u->tx_count = (uint8_t)(u->tx_count - (unsigned)taken);
    }
    u->lsr |= UART_LSR_THRE | UART_LSR_TEMT;
    u->thre_pending = true;
}

static void uart_writable(void *opaque)
{
    struct uart *u = opaque;
    if (u->tx_count) {
        uart_transmit(u);
        uart_update(u);
    }
}

static void uart_write_thr(struct uart *u, uint8_t byte)
{
    u->thre_pending = false;
    uart_update(u); /* the line falls before the emptied THR raises it again: an edge for the PIC */
    u->nap.polls = 0;
    if (u->mcr & UART_MCR_LOOP) {
        uart_rx_put(u, byte, 0);
        u->thre_pending = true;
        uart_rx_changed(u);
        return;
    }
    if (u->tx_count >= uart_capacity(u)) { /* overwrites the last one, as the chip does */
        u->tx[(u->tx_head + u->tx_count - 1) % UART_FIFO_BYTES] = byte;
    } else {
        u->tx[(u->tx_head + u->tx_count) % UART_FIFO_BYTES] = byte;
        u->tx_count++;
    }
    u->lsr &= (uint8_t) ~(UART_LSR_THRE | UART_LSR_TEMT);
    uart_transmit(u);
    uart_update(u);
}

static void uart_clear_tx(struct uart *u)
{
    u->tx_head = u->tx_count = 0;
    u->lsr |= UART_LSR_THRE | UART_LSR_TEMT;
    u->thre_pending = true;
}

/* ---- modem lines ---- */

/* Outside loopback the line's far end is a null modem that is always there. */
static void uart_update_modem(struct uart *u)
{
    uint8_t now = UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD, changed;
    if (u->mcr & UART_MCR_LOOP)
        now = (uint8_t)((u->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) | (u->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
                        (u->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) | (u->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
    changed = (uint8_t)((now ^ u->msr) >> 4);
    if (now & UART_MSR_RI)
        changed &= (uint8_t)~UART_MSR_TERI; /* trailing edge only */
    u->msr = (uint8_t)(now | (u->msr & 15) | changed);
}

/* ---- registers ---- */

static uint8_t uart_read_iir(struct uart *u)
{
    uint8_t cause = uart_cause(u);
    if (cause == UART_IIR_THRE) {
        u->thre_pending = false;
        uart_update(u);
    }
    return (uint8_t)(cause | (u->fcr & UART_FCR_ENABLE ? UART_IIR_FIFO : 0));
}

static uint64_t uart_read(void *opaque, uint64_t offset, unsigned size)
{
    struct uart *u = opaque;
    uint8_t v;
    (void)size;
    switch (offset) {
    case 0: return u->lcr & UART_LCR_DLAB ? u->divisor & 0xFF : uart_read_rbr(u);
    case 1: return u->lcr & UART_LCR_DLAB ? u->divisor >> 8 : u->ier;
    case 2: return uart_read_iir(u);
    case 3: return u->lcr;
    case 4: return u->mcr;
    case 5:
        v = u->lsr;
        if (v & UART_LSR_DR)
            u->nap.polls = 0;
        else
            machine_polled_in_vain(u->dev.emu, &u->nap);
        if (u->lsr & UART_LSR_ERRORS) {
            u->lsr &= (uint8_t)~UART_LSR_ERRORS;
            uart_update(u);
        }
        return v;
    case 6:
        v = u->msr;
        u->msr &= 0xF0;
        uart_update(u);
        return v;
    default: return u->scr;
    }
}

static void uart_write_ier(struct uart *u, uint8_t v)
{
    uint8_t risen = v & (uint8_t)~u->ier;
    u->ier = v & 15;
    if ((risen & UART_IER_THRE) && (u->lsr & UART_LSR_THRE))
        u->thre_pending = true; /* enabling it with an empty transmitter interrupts at once */
    uart_update(u);
}

static void uart_write_fcr(struct uart *u, uint8_t v)
{
    static const uint8_t levels[4] = { 1, 4, 8, 14 };
    bool toggled = ((u->fcr ^ v) & UART_FCR_ENABLE) != 0;
    if (!(v & UART_FCR_ENABLE))
        v &= (uint8_t)~0xFE; /* the other bits are programmed only together with bit 0 (§8.5) */
    u->fcr = v & 0xC9;
    u->trigger = v & UART_FCR_ENABLE ? levels[v >> 6] : 1;
    if (toggled || (v & UART_FCR_CLEAR_TX))
        uart_clear_tx(u);
    if (toggled || (v & UART_FCR_CLEAR_RX))
        uart_clear_rx(u);
    else
        uart_rx_changed(u);
    if (u->chr)
        chr_accept_input(u->chr);
}

static void uart_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct uart *u = opaque;
    uint8_t v = (uint8_t)value;
    (void)size;
    switch (offset) {
    case 0:
        if (u->lcr & UART_LCR_DLAB)
            u->divisor = (uint16_t)((u->divisor & 0xFF00) | v);
        else
            uart_write_thr(u, v);
        break;
    case 1:
        if (u->lcr & UART_LCR_DLAB)
            u->divisor = (uint16_t)((u->divisor & 0xFF) | v << 8);
        else
            uart_write_ier(u, v);
        break;
    case 2: uart_write_fcr(u, v); break;
    case 3: u->lcr = v; break;
    case 4: {
        bool left_loop = (u->mcr & UART_MCR_LOOP) && !(v & UART_MCR_LOOP);
        u->mcr = v & 0x1F;
        uart_update_modem(u);
        uart_update(u);
        if (left_loop && u->chr)
            chr_accept_input(u->chr);
        break;
    }
    case 5: /* LSR: for the factory */
    case 6: break; /* MSR: read only here */
    case 7: u->scr = v; break;
    }
}

/* ---- device ---- */

static const struct region_ops uart_ops = { uart_read, uart_write, 1, 1, true };

static void uart_reset(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
    u->divisor = 12; /* 9600; the chip leaves it undefined */
    u->trigger = 1;
    u->lsr = UART_LSR_THRE | UART_LSR_TEMT;
    u->msr = UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD;
    u->rx_head = u->rx_count = u->tx_head = u->tx_count = u->last_rx = 0;
    memset(u->rx_flags, 0, sizeof u->rx_flags);
    u->thre_pending = u->timeout_pending = false;
    timer_cancel(&u->timeout_timer);
    uart_update(u);
    if (u->chr)
        chr_accept_input(u->chr);
}

static int uart_create(struct device *dev, struct options *opts, struct err *err)
{
    static const uint16_t bases[4] = { 0x3F8, 0x2F8, 0x3E8, 0x2E8 };
    static const uint8_t irqs[4] = { 4, 3, 4, 3 };
    struct uart *u = (struct uart *)dev;
    const struct device *other;
    uint64_t index = 0, base, irq;
    const char *chr = options_get(opts, "chardev");
    int r;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls && index < 3)
            index++;
    if (options_u64(opts, "index", 0, 3, &index, err))
        return EMU_EINVAL;
    base = bases[index]; /* a fifth port needs iobase= and irq= of its own */
    irq = irqs[index];
    if (options_u64(opts, "iobase", 8, 0xFFF8, &base, err) || options_u64(opts, "irq", 1, 15, &irq, err))
        return EMU_EINVAL;
    if (chr) {
        u->chr = chr_find(dev->emu, chr);
        if (!u->chr)
            return err_set(err, EMU_ENOENT, "%s: there is no -chardev with id=%s", opts->origin, chr);
        if (u->chr->in_use)
            return err_set(err, EMU_EBUSY, "%s: chardev \"%s\" is already used by another device", opts->origin, chr);
        u->chr->in_use = true;
        u->chr->can_receive = uart_can_receive;
        u->chr->receive = uart_receive;
        u->chr->event = uart_event;
        u->chr->writable = uart_writable;
        u->chr->opaque = u;
    }
    timer_init(&u->timeout_timer, dev->emu, uart_timeout, u);
    u->irq = board_gsi(dev->emu, (int)irq);
    r = port_add(dev->emu, &u->ports, "serial", (uint16_t)base, 8, &uart_ops, u);
    if (r)
        return err_set(err, r, "serial port at %#x: ports are taken", (unsigned)base);
    uart_reset(dev);
    return 0;
}

static void uart_destroy(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    timer_cancel(&u->timeout_timer);
    region_remove(dev->emu, &dev->emu->ports, &u->ports);
    if (u->chr) {
        u->chr->can_receive = NULL;
        u->chr->receive = NULL;
        u->chr->event = NULL;
        u->chr->writable = NULL;
        u->chr->in_use = false;
    }
}

static const struct opt_desc uart_options[] = {
    { "chardev", "chardev", "where its bytes go and come from" },
    { "index", "u32", "0-3: COM1 to COM4" },
    { "iobase", "u32", "first port" },
    { "irq", "u32", "interrupt line" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class uart_class = {
    .name = "isa-serial", .bus = "isa", .help = "16550A serial port", .options = uart_options,
    .instance_size = sizeof(struct uart), .create = uart_create, .reset = uart_reset, .destroy = uart_destroy, .user_creatable = true,
};
#undef UART_FIFO_BYTES
#undef UART_CLOCK_HZ
