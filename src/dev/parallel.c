/* dev/parallel.c - standard parallel port (SPP) of a PC ("isa-parallel").
 *
 * Models     IBM PC/AT Technical Reference, "Parallel Adapter"; IEEE 1284-1994 compatibility mode and the PS/2 direction bit.
 * Contract   board.c creates one for each -parallel: LPT1-LPT3 at 378h/278h/3BCh, IRQ 7/5/7. Bytes go to a struct chr.
 * Theory     A byte is sent when the guest ends the strobe pulse (control bit 0 from 1 to 0). The printer then holds BUSY until chr has
 *            taken the byte, and answers with an ACK pulse, which is an interrupt if control bit 4 asks for it.
 * Invariants 1. pending holds a byte exactly while BUSY is shown for want of room.
 * Missing    EPP and ECP. Input from the peripheral: with the direction bit set the data lines read as ones.
 */
#include "../machine.h"
#include "dev.h"

enum { /* status, base + 1 */
    PARALLEL_STATUS_ERROR_N = 0x08,
    PARALLEL_STATUS_SELECTED = 0x10,
    PARALLEL_STATUS_ACK_N = 0x40,
    PARALLEL_STATUS_BUSY_N = 0x80
};
enum { /* control, base + 2 */
    PARALLEL_CONTROL_STROBE = 0x01,
    PARALLEL_CONTROL_IRQ = 0x10,
    PARALLEL_CONTROL_INPUT = 0x20,
    PARALLEL_CONTROL_KEPT = 0x3F
};

struct parallel {
    struct device dev;
    struct region ports;
    struct irq irq;
    struct chr *chr;
    uint8_t data, control, pending_byte;
    bool pending;
};

static void parallel_send(struct parallel *p)
{
    p->pending = chr_write(p->chr, &p->pending_byte, 1) <= 0;
    if (!p->pending && (p->control & PARALLEL_CONTROL_IRQ))
        irq_pulse(&p->irq); /* the rising edge of ACK */
}

static void parallel_writable(void *opaque)
{
    struct parallel *p = opaque;
    if (p->pending)
        parallel_send(p);
}

static uint64_t parallel_read(void *opaque, uint64_t offset, unsigned size)
{
    struct parallel *p = opaque;
    (void)size;
    switch (offset) {
    case 0: return p->control & PARALLEL_CONTROL_INPUT ? 0xFF : p->data;
    case 1:
        return PARALLEL_STATUS_ERROR_N | PARALLEL_STATUS_SELECTED | PARALLEL_STATUS_ACK_N |
               (p->pending || (p->control & PARALLEL_CONTROL_STROBE) ? 0 : PARALLEL_STATUS_BUSY_N);
    case 2: return p->control | 0xC0;
    default: return 0xFF;
    }
}

static void parallel_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct parallel *p = opaque;
    uint8_t v = (uint8_t)value, old = p->control;
    (void)size;
    if (offset == 0) {
        p->data = v;
    } else if (offset == 2) {
        p->control = v & PARALLEL_CONTROL_KEPT;
        if ((old & PARALLEL_CONTROL_STROBE) && !(v & PARALLEL_CONTROL_STROBE) && !p->pending) {
            p->pending_byte = p->data;
            parallel_send(p);
        }
    }
}

static const struct region_ops parallel_ops = { parallel_read, parallel_write, 1, 1, true };

static void parallel_reset(struct device *dev)
{
    struct parallel *p = (struct parallel *)dev;
    p->data = 0;
    p->control = 0x0C; /* initialised, selected */
    p->pending = false;
    irq_set(&p->irq, 0);
}

static int parallel_create(struct device *dev, struct options *opts, struct err *err)
{
    static const uint16_t bases[3] = { 0x378, 0x278, 0x3BC };
    static const uint8_t irqs[3] = { 7, 5, 7 };
    struct parallel *p = (struct parallel *)dev;
    const struct device *other;
    uint64_t index = 0, base, irq;
    const char *chr = options_get(opts, "chardev");
    int r;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls && index < 2)
            index++;
    if (options_u64(opts, "index", 0, 2, &index, err))
        return EMU_EINVAL;
    base = bases[index];
    irq = irqs[index];
    if (options_u64(opts, "iobase", 4, 0xFFFC, &base, err) || options_u64(opts, "irq", 1, 15, &irq, err))
        return EMU_EINVAL;
    if (chr) {
        p->chr = chr_find(dev->emu, chr);
        if (!p->chr)
            return err_set(err, EMU_ENOENT, "%s: there is no -chardev with id=%s", opts->origin, chr);
        if (p->chr->in_use)
            return err_set(err, EMU_EBUSY, "%s: chardev \"%s\" is already used by another device", opts->origin, chr);
        p->chr->in_use = true;
        p->chr->writable = parallel_writable;
        p->chr->opaque = p;
    }
    p->irq = board_gsi(dev->emu, (int)irq);
    r = port_add(dev->emu, &p->ports, "parallel", (uint16_t)base, 3, &parallel_ops, p);
    if (r)
        return err_set(err, r, "parallel port at %#x: ports are taken", (unsigned)base);
    parallel_reset(dev);
    return 0;
}

static void parallel_destroy(struct device *dev)
{
    struct parallel *p = (struct parallel *)dev;
    region_remove(dev->emu, &dev->emu->ports, &p->ports);
    if (p->chr) {
        p->chr->writable = NULL;
        p->chr->in_use = false;
    }
}

static const struct opt_desc parallel_options[] = {
    { "chardev", "chardev", "where its bytes go" },
    { "index", "u32", "0-2: LPT1 to LPT3" },
    { "iobase", "u32", "first port" },
    { "irq", "u32", "interrupt line" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class parallel_class = {
    .name = "isa-parallel", .bus = "isa", .help = "parallel port (SPP)", .options = parallel_options,
    .instance_size = sizeof(struct parallel), .create = parallel_create, .reset = parallel_reset, .destroy = parallel_destroy, .user_creatable = true,
};
