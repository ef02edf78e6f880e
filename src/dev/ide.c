/* dev/ide.c - the IDE function of Intel's PIIX3: two ATA channels in compatibility mode with bus-master DMA.
 *
 * Models     PIIX3 290550-002 §2.6 and §3.5 (PCI function 1, 8086:7010); "Programming Interface for Bus Master IDE
 *            Controller" 1.0; ATA/ATAPI-6 (T13 1410D) §7 and §9 for registers, selection, resets and DRQ protocol.
 * Contract   board.c creates one "piix3-ide" before the drives; drives (ata.c, atapi.c) attach to a channel and use the
 *            helpers of ide.h. Guests reach it through 1F0h-1F7h/3F6h (IRQ 14), 170h-177h/376h (IRQ 15) and BAR 4.
 * Theory     A drive is in one of these states; the function beside the arrow makes the transition.
 *
 *              idle --ide_write_command--> drive's command() --+--ide_io------> BSY --blk done--> continuation
 *                                                              +--ide_pio_*---> DRQ --last byte--> continuation
 *                                                              +--ide_dma-----> waits for start bit --ide_bm_run--> continuation
 *                                                              +--ide_gap-----> BSY --timer--> continuation
 *              any --ide_finish/ide_idle/ide_fail--> idle;  any --SRST, reset, DEVICE RESET: ide_stop--> idle
 *
 *            DMA goes through the drive's buffer: a window is moved to or from the guest's PRD list in one go as soon as
 *            the start bit is set. Both registers sets of a channel are written together, as both drives listen.
 * Invariants 1. The channel's line is high exactly while the selected drive has INTRQ and nIEN is clear.
 *            2. Bus-master "active" is set only between a start and the end of the PRD table or a stop.
 *            3. No block request outlives ide_stop() of its drive.
 * Missing    The timing registers (40h-44h) are kept but change nothing; the channels are always decoded. Native mode: the
 *            PIIX3 has none.
 */
#include "../machine.h"
#include "dev.h"
#include "ide.h"

#define IDE_GAP_NS (1 * NS_PER_US) /* BSY between two DRQ blocks; a driver that re-arms its "interrupt seen" flag needs some */

enum { /* device control, 3F6h */
    IDE_CONTROL_NIEN = 0x02,
    IDE_CONTROL_SRST = 0x04,
    IDE_CONTROL_HOB = 0x80
};
enum { /* device register */
    IDE_DEVICE_DEV = 0x10,
    IDE_DEVICE_OBSOLETE = 0xA0 /* bits 7 and 5 read as ones */
};
enum { /* bus master */
    IDE_BM_START = 0x01,
    IDE_BM_TO_MEMORY = 0x08,
    IDE_BM_ACTIVE = 0x01,
    IDE_BM_ERROR = 0x02,
    IDE_BM_INT = 0x04,
    IDE_BM_CAPABLE = 0x60 /* software's notes about the drives */
};
enum { IDE_CMD_DEVICE_RESET = 0x08, IDE_CMD_DIAGNOSTIC = 0x90 };

struct ide_channel {
    struct ide_controller *controller;
    struct ide_drive *drives[2];
    unsigned selected;
    uint8_t control;
    struct irq irq;
    bool irq_level;
    struct region command_ports, control_port;
    /* bus master */
    uint8_t bm_command, bm_status;
    uint32_t bm_table;      /* PRD table address register */
    uint32_t bm_next;       /* next PRD to fetch */
    uint32_t bm_address;    /* rest of the present one */
    uint32_t bm_left;
    bool bm_last;           /* it carried the end mark */
};
struct ide_controller {
    struct pci_device pci;
    struct ide_channel channels[2];
};

/* ---- interrupt line ---- */

static void ide_update_irq(struct ide_channel *ch)
{
    const struct ide_drive *d = ch->drives[ch->selected];
    bool level = d && d->intrq && !(ch->control & IDE_CONTROL_NIEN);
    if (level == ch->irq_level)
        return;
    ch->irq_level = level;
    if (level)
        ch->bm_status |= IDE_BM_INT;
    irq_set(&ch->irq, level);
}

static void ide_raise(struct ide_drive *d)
{
    d->intrq = true;
    ide_update_irq(d->channel);
}

/* ---- transfer engine ---- */

static void ide_window(struct ide_drive *d, enum ide_phase phase, uint32_t offset, uint32_t size, ide_fn done)
{
    assert(offset <= IDE_BUF_BYTES && size <= IDE_BUF_BYTES - offset);
    d->phase = (uint8_t)phase;
    d->pos = offset;
    d->end = offset + size;
    d->window_done = done;
}

EMU_PRIV void ide_pio_in(struct ide_drive *d, uint32_t offset, uint32_t size, ide_fn taken)
{
    ide_window(d, IDE_PHASE_PIO_IN, offset, size, taken);
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    ide_raise(d);
}

EMU_PRIV void ide_pio_out(struct ide_drive *d, uint32_t offset, uint32_t size, bool interrupt, ide_fn filled)
{
    ide_window(d, IDE_PHASE_PIO_OUT, offset, size, filled);
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    if (interrupt)
        ide_raise(d);
}

static void ide_window_end(struct ide_drive *d)
{
    ide_fn done = d->window_done;
    d->phase = IDE_PHASE_NONE;
    d->status &= (uint8_t)~IDE_DRQ;
    done(d);
}

static void ide_bm_error(struct ide_channel *ch)
{
    ch->bm_status = (uint8_t)((ch->bm_status & ~IDE_BM_ACTIVE) | IDE_BM_ERROR);
}

/* Moves as much of the drive's window as the PRD list takes. Stays pending when the list ends first (the specification's
 * "PRD smaller than the transfer"): a new list may be started, else the guest resets the drive. */
static void ide_bm_run(struct ide_channel *ch)
{
    struct ide_drive *d = ch->drives[ch->selected];
    struct emu *e = ch->controller->pci.dev.emu;
    if (!d || !(ch->bm_status & IDE_BM_ACTIVE) || (d->phase != IDE_PHASE_DMA_IN && d->phase != IDE_PHASE_DMA_OUT))
        return;
    if (!pci_bus_master(&ch->controller->pci)) {
        ide_bm_error(ch); /* the cycle is never claimed: master abort */
        return;
    }
    while (d->pos < d->end) {
        uint32_t n;
        if (!ch->bm_left) {
            uint8_t prd[8];
            if (ch->bm_last) {
                ch->bm_status &= (uint8_t)~IDE_BM_ACTIVE;
                return;
            }
            dma_read(e, ch->bm_next, prd, sizeof prd);
            ch->bm_next += 8;
            ch->bm_address = ld32le(prd) & ~UINT32_C(1);
            ch->bm_left = ld16le(prd + 4) & 0xFFFEu;
            if (!ch->bm_left)
                ch->bm_left = 0x10000;
            ch->bm_last = (prd[7] & 0x80) != 0;
        }
        n = EMU_MIN(d->end - d->pos, ch->bm_left);
        if (d->phase == IDE_PHASE_DMA_IN)
            dma_write(e, ch->bm_address, d->buf + d->pos, n);
        else
            dma_read(e, ch->bm_address, d->buf + d->pos, n);
        d->pos += n;
        ch->bm_address += n;
        ch->bm_left -= n;
    }
    if (!ch->bm_left && ch->bm_last)
        ch->bm_status &= (uint8_t)~IDE_BM_ACTIVE;
    ide_window_end(d);
}

EMU_PRIV void ide_dma(struct ide_drive *d, bool to_memory, uint32_t offset, uint32_t size, ide_fn moved)
{
    ide_window(d, to_memory ? IDE_PHASE_DMA_IN : IDE_PHASE_DMA_OUT, offset, size, moved);
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    if (d->channel->drives[d->channel->selected] == d)
        ide_bm_run(d->channel);
}

static void ide_gap_over(void *opaque)
{
    struct ide_drive *d = opaque;
    d->gap_done(d);
}

EMU_PRIV void ide_gap(struct ide_drive *d, ide_fn next)
{
    d->status = IDE_BSY;
    d->gap_done = next;
    timer_arm(&d->gap_timer, emu_now_ns(d->dev.emu) + IDE_GAP_NS);
}

static void ide_io_finished(void *opaque, int result)
{
    struct ide_drive *d = opaque;
    d->io_pending = false;
    d->io_done(d, result);
}

EMU_PRIV void ide_io(struct ide_drive *d, enum blk_op op, uint64_t offset, uint32_t buf_offset, uint64_t size, ide_result_fn done)
{
    struct blk_request *r = &d->request;
    bool data = op == BLK_READ || op == BLK_WRITE;
    assert(!d->io_pending);
    assert(!data || (buf_offset <= IDE_BUF_BYTES && size <= IDE_BUF_BYTES - buf_offset));
    memset(r, 0, sizeof *r);
    d->iov.base = d->buf + buf_offset;
    d->iov.size = (size_t)size;
    r->op = (uint8_t)op;
    r->offset = offset;
    r->size = size;
    r->iov = data ? &d->iov : NULL;
    r->iov_count = data ? 1 : 0;
    r->done = ide_io_finished;
    r->opaque = d;
    d->io_done = done;
    d->io_pending = true;
    d->status = IDE_BSY;
    blk_submit(d->blk, r);
}

EMU_PRIV void ide_idle(struct ide_drive *d)
{
    d->phase = IDE_PHASE_NONE;
    d->status = IDE_DRDY | IDE_DSC;
    d->error = 0;
}

EMU_PRIV void ide_finish(struct ide_drive *d)
{
    ide_idle(d);
    ide_raise(d);
}

EMU_PRIV void ide_fail(struct ide_drive *d, uint8_t error)
{
    d->phase = IDE_PHASE_NONE;
    d->status = IDE_DRDY | IDE_DSC | IDE_ERR;
    d->error = error;
    ide_raise(d);
}

EMU_PRIV void ide_stop(struct ide_drive *d)
{
    if (d->io_pending) {
        d->io_pending = false;
        blk_cancel(d->blk, &d->request);
    }
    timer_cancel(&d->gap_timer);
    d->phase = IDE_PHASE_NONE;
    d->pos = d->end = 0;
    d->intrq = false;
}

/* Task file as every reset leaves it; the drive adds its own signature. */
static void ide_drive_reset(struct ide_drive *d)
{
    ide_stop(d);
    d->feature = d->hob_feature = d->hob_count = 0;
    memset(d->hob_lba, 0, sizeof d->hob_lba);
    d->device = 0;
    d->error = 1; /* diagnostic code: passed (ATA/ATAPI-6 table 26) */
    d->ops->signature(d);
}

EMU_PRIV void ide_put_string(uint8_t *words, unsigned bytes, const char *text)
{
    unsigned i;
    for (i = 0; i < bytes; i++) {
        words[i ^ 1] = *text ? (uint8_t)*text : ' ';
        if (*text)
            text++;
    }
}

/* ---- command block registers ---- */

static void ide_execute_diagnostic(struct ide_channel *ch)
{
    unsigned i;
    for (i = 0; i < 2; i++)
        if (ch->drives[i])
            ide_drive_reset(ch->drives[i]);
    ch->selected = 0;
    if (ch->drives[0])
        ide_raise(ch->drives[0]);
    ide_update_irq(ch);
}

static void ide_write_command(struct ide_channel *ch, uint8_t command)
{
    struct ide_drive *d = ch->drives[ch->selected];
    if (command == IDE_CMD_DIAGNOSTIC && (ch->drives[0] || ch->drives[1])) { /* addressed to both, whichever is selected */
        if (!d || !(d->status & IDE_BSY))
            ide_execute_diagnostic(ch);
        return;
    }
    if (!d)
        return;
    if (command == IDE_CMD_DEVICE_RESET && d->ops->packet) { /* accepted even while busy */
        uint8_t device = d->device;
        ide_drive_reset(d);
        d->device = device & IDE_DEVICE_DEV;
        ide_update_irq(ch);
        return;
    }
    if (d->status & (IDE_BSY | IDE_DRQ))
        return;
    d->intrq = false;
    ide_update_irq(ch);
    d->status = IDE_DRDY | IDE_DSC;
    d->error = 0;
    emu_log(d->dev.emu, LOG_TRACE, "ide: unit %u command %#x count %#x lba %02x%02x%02x device %#x", d->unit, command, d->count, d->lba[2],
            d->lba[1], d->lba[0], d->device);
    d->ops->command(d, command);
}

static void ide_write_register(struct ide_channel *ch, unsigned reg, uint8_t v)
{
    unsigned i;
    ch->control &= (uint8_t)~IDE_CONTROL_HOB;
    if (reg == 7) {
        ide_write_command(ch, v);
        return;
    }
    if (reg == 6) {
        ch->selected = (v & IDE_DEVICE_DEV) != 0;
        ide_update_irq(ch);
    }
    for (i = 0; i < 2; i++) {
        struct ide_drive *d = ch->drives[i];
        if (!d || (d->status & IDE_BSY))
            continue;
        switch (reg) {
        case 1:
            d->hob_feature = d->feature;
            d->feature = v;
            break;
        case 2:
            d->hob_count = d->count;
            d->count = v;
            break;
        case 3:
        case 4:
        case 5:
            d->hob_lba[reg - 3] = d->lba[reg - 3];
            d->lba[reg - 3] = v;
            break;
        case 6: d->device = v; break;
        }
    }
}

static uint8_t ide_read_register(struct ide_channel *ch, unsigned reg)
{
    struct ide_drive *d = ch->drives[ch->selected];
    bool hob = (ch->control & IDE_CONTROL_HOB) != 0;
    if (!d && reg != 7 && ch->selected == 1) {
        d = ch->drives[0]; /* device 0 answers for an absent device 1, but with status 0 (ATA/ATAPI-6 §9.16.1) */
        if (d && d->ops->packet && (reg == 4 || reg == 5))
            return 0; /* a packet signature there would make drivers see a second CD-ROM */
    }
    if (!d)
        return 0;
    switch (reg) {
    case 1: return hob ? d->hob_feature : d->error;
    case 2: return hob ? d->hob_count : d->count;
    case 3:
    case 4:
    case 5: return hob ? d->hob_lba[reg - 3] : d->lba[reg - 3];
    case 6: return (uint8_t)((d->device & ~IDE_DEVICE_DEV) | IDE_DEVICE_OBSOLETE | (ch->selected ? IDE_DEVICE_DEV : 0));
    default: return d->status;
    }
}

static uint64_t ide_read_data(struct ide_drive *d, unsigned size)
{
    uint64_t v;
    uint32_t left;
    if (!d || d->phase != IDE_PHASE_PIO_IN)
        return 0;
    left = d->end - d->pos;
    if (left >= size) {
        v = ldn_le(d->buf + d->pos, size);
        d->pos += size;
    } else { /* a wide read of an odd tail: what is left, zeros above */
        uint8_t tail[8] = { 0 };
        memcpy(tail, d->buf + d->pos, left);
        v = ldn_le(tail, size);
        d->pos = d->end;
    }
    if (d->pos == d->end)
        ide_window_end(d);
    return v;
}

static void ide_write_data(struct ide_drive *d, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    uint32_t n;
    if (!d || d->phase != IDE_PHASE_PIO_OUT)
        return;
    stn_le(bytes, value, size);
    n = EMU_MIN(d->end - d->pos, size);
    memcpy(d->buf + d->pos, bytes, n);
    d->pos += n;
    if (d->pos == d->end)
        ide_window_end(d);
}

static uint64_t ide_command_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *ch = opaque;
    uint64_t v = 0;
    unsigned i;
    if (offset == 0)
        return ide_read_data(ch->drives[ch->selected], size);
    for (i = 0; i < size; i++) {
        unsigned reg = (unsigned)offset + i;
        v |= (uint64_t)ide_read_register(ch, reg) << (8 * i);
        if (reg == 7 && ch->drives[ch->selected]) {
            ch->drives[ch->selected]->intrq = false;
            ide_update_irq(ch);
        }
    }
    return v;
}

static void ide_command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_channel *ch = opaque;
    unsigned i;
    if (offset == 0) {
        ide_write_data(ch->drives[ch->selected], value, size);
        return;
    }
    for (i = 0; i < size; i++)
        ide_write_register(ch, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
}

/* ---- control register: alternate status, nIEN, SRST ---- */

static uint64_t ide_control_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *ch = opaque;
    const struct ide_drive *d = ch->drives[ch->selected];
    (void)offset, (void)size;
    return d ? d->status : 0;
}

static void ide_control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_channel *ch = opaque;
    uint8_t old = ch->control;
    unsigned i;
    (void)offset, (void)size;
    ch->control = (uint8_t)value;
    for (i = 0; i < 2; i++) {
        struct ide_drive *d = ch->drives[i];
        if (!d)
            continue;
        if (ch->control & IDE_CONTROL_SRST) {
            ide_stop(d);
            d->status = IDE_BSY;
        } else if (old & IDE_CONTROL_SRST) {
            ide_drive_reset(d);
        }
    }
    if ((old & IDE_CONTROL_SRST) && !(ch->control & IDE_CONTROL_SRST))
        ch->selected = 0;
    ide_update_irq(ch);
}

/* ---- bus master registers: BAR 4, eight bytes a channel ---- */

static void ide_bm_write_command(struct ide_channel *ch, uint8_t v)
{
    bool was = (ch->bm_command & IDE_BM_START) != 0, is = (v & IDE_BM_START) != 0;
    ch->bm_command = v & (IDE_BM_START | IDE_BM_TO_MEMORY);
    if (!was && is) {
        ch->bm_status |= IDE_BM_ACTIVE;
        ch->bm_next = ch->bm_table;
        ch->bm_left = 0;
        ch->bm_last = false;
        ide_bm_run(ch);
    } else if (was && !is) {
        ch->bm_status &= (uint8_t)~IDE_BM_ACTIVE;
    }
}

static uint64_t ide_bm_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_controller *c = opaque;
    uint64_t v = 0;
    unsigned i;
    for (i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i;
        const struct ide_channel *ch = &c->channels[(at >> 3) & 1];
        uint8_t byte = 0;
        switch (at & 7) {
        case 0: byte = ch->bm_command; break;
        case 2: byte = ch->bm_status; break;
        case 4:
        case 5:
        case 6:
        case 7: byte = (uint8_t)(ch->bm_table >> (8 * (at & 3))); break;
        }
        v |= (uint64_t)byte << (8 * i);
    }
    return v;
}

static void ide_bm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_controller *c = opaque;
    unsigned i;
    for (i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i, shift = 8 * (at & 3);
        struct ide_channel *ch = &c->channels[(at >> 3) & 1];
        uint8_t byte = (uint8_t)(value >> (8 * i));
        switch (at & 7) {
        case 0: ide_bm_write_command(ch, byte); break;
        case 2: /* capability bits are software's; error and interrupt are cleared by ones */
            ch->bm_status = (uint8_t)((ch->bm_status & IDE_BM_ACTIVE) | (byte & IDE_BM_CAPABLE) |
                                      (ch->bm_status & ~byte & (IDE_BM_ERROR | IDE_BM_INT)));
            break;
        case 4:
        case 5:
        case 6:
        case 7:
            ch->bm_table = (ch->bm_table & ~(UINT32_C(0xFF) << shift)) | (uint32_t)byte << shift;
            ch->bm_table &= ~UINT32_C(3);
            break;
        }
    }
}

/* ---- drives come and go ---- */

static void ide_reset_channel(struct ide_channel *ch)
{
    unsigned i;
    for (i = 0; i < 2; i++)
        if (ch->drives[i])
            ide_drive_reset(ch->drives[i]);
    ch->selected = 0;
    ch->control = 0;
    ch->bm_command = ch->bm_status = 0;
    ch->bm_table = ch->bm_next = ch->bm_left = 0;
    ch->bm_last = false;
    ide_update_irq(ch);
}

static int ide_choose_slot(struct ide_controller *c, struct options *opts, unsigned *bus, unsigned *unit, struct err *err)
{
    const char *name = options_get(opts, "bus");
    uint64_t wanted = 2, bootindex = 0; /* the latter is the firmware's to read: fw/bios_disk.c */
    unsigned i;
    *bus = 2;
    if (name) {
        if (strncmp(name, "ide.", 4) != 0 || (name[4] != '0' && name[4] != '1') || name[5])
            return err_set(err, EMU_EINVAL, "%s: no bus \"%s\"; there are ide.0 and ide.1", opts->origin, name);
        *bus = (unsigned)(name[4] - '0');
    }
    if (options_u64(opts, "unit", 0, 1, &wanted, err) || options_u64(opts, "bootindex", 0, 1000, &bootindex, err))
        return EMU_EINVAL;
    for (i = 0; i < 4; i++)
        if ((*bus == 2 || *bus == i / 2) && (wanted == 2 || wanted == i % 2) && !c->channels[i / 2].drives[i % 2]) {
            *bus = i / 2;
            *unit = i % 2;
            return 0;
        }
    return err_set(err, EMU_EBUSY, "%s: that place on the IDE bus is taken; there are four: bus=ide.0 or ide.1, unit=0 or 1", opts->origin);
}

EMU_PRIV int ide_attach(struct ide_drive *d, const struct ide_drive_ops *ops, struct options *opts, struct err *err)
{
    struct emu *e = d->dev.emu;
    struct ide_controller *c = (struct ide_controller *)device_find(e, "piix3-ide");
    const char *drive = options_get(opts, "drive");
    unsigned bus = 0, unit = 0;
    int r;
    if (!c)
        return err_set(err, EMU_ENOENT, "%s: this machine has no IDE controller", opts->origin);
    if (!drive && !ops->packet)
        return err_set(err, EMU_EINVAL, "%s: drive=ID is missing", opts->origin);
    d->blk = drive ? blk_find(e, drive) : blk_create(e, d->dev.id ? d->dev.id : "ide1-cd0", err);
    if (!d->blk)
        return drive ? err_set(err, EMU_ENOENT, "%s: there is no drive \"%s\"", opts->origin, drive) : EMU_ENOMEM;
    if (d->blk->in_use)
        return err_set(err, EMU_EBUSY, "%s: drive \"%s\" is already used by another device", opts->origin, drive ? drive : "");
    r = ide_choose_slot(c, opts, &bus, &unit, err);
    if (r)
        return r;
    d->buf = emu_alloc(e, IDE_BUF_BYTES);
    if (!d->buf)
        return err_set(err, EMU_ENOMEM, "out of memory");
    d->ops = ops;
    d->channel = &c->channels[bus];
    d->unit = unit;
    d->channel->drives[unit] = d;
    d->blk->in_use = true;
    d->blk->ide_place = (uint8_t)(bus * 2 + unit + 1);
    timer_init(&d->gap_timer, e, ide_gap_over, d);
    return 0;
}

EMU_PRIV void ide_detach(struct ide_drive *d)
{
    if (d->channel) {
        ide_stop(d);
        d->channel->drives[d->unit] = NULL;
        ide_update_irq(d->channel);
        d->channel = NULL;
        d->blk->in_use = false;
        d->blk->ide_place = 0;
        d->blk->media_changed = NULL;
    }
    emu_free(d->dev.emu, d->buf);
    d->buf = NULL;
}

/* ---- device ---- */

static const struct region_ops ide_command_ops = { ide_command_read, ide_command_write, 1, 4, true };
static const struct region_ops ide_control_ops = { ide_control_read, ide_control_write, 1, 1, true };
static const struct region_ops ide_bm_ops = { ide_bm_read, ide_bm_write, 1, 4, true };

static int ide_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ide_controller *c = (struct ide_controller *)dev;
    unsigned i;
    int r = pci_device_init(&c->pci, 1 << 3 | 1, 0x8086, 0x7010, 0x01018000, err); /* IDE, bus master, compatibility mode */
    (void)opts;
    if (r)
        return r;
    pci_set_subsystem(&c->pci, 0x1AF4, 0x1100);
    /* IDETIM: decode enabled, so that a guest without firmware finds the channels too (290550-002 §2.6.9) */
    st16le(c->pci.config + 0x40, 0x8000);
    st16le(c->pci.config + 0x42, 0x8000);
    memset(c->pci.wmask + 0x40, 0xFF, 5);
    pci_add_bar_io(&c->pci, 4, "ide bus master", 16, true, &ide_bm_ops, c);
    for (i = 0; i < 2; i++) {
        struct ide_channel *ch = &c->channels[i];
        ch->controller = c;
        ch->irq = board_gsi(dev->emu, 14 + (int)i);
        r = port_add(dev->emu, &ch->command_ports, "ide", i ? 0x170 : 0x1F0, 8, &ide_command_ops, ch);
        if (!r)
            r = port_add(dev->emu, &ch->control_port, "ide control", i ? 0x376 : 0x3F6, 1, &ide_control_ops, ch);
        if (r)
            return err_set(err, r, "IDE ports are taken");
    }
    return 0;
}

static void ide_reset(struct device *dev)
{
    struct ide_controller *c = (struct ide_controller *)dev;
    ide_reset_channel(&c->channels[0]);
    ide_reset_channel(&c->channels[1]);
    st16le(c->pci.config + 0x40, 0x8000);
    st16le(c->pci.config + 0x42, 0x8000);
}

static void ide_destroy(struct device *dev)
{
    struct ide_controller *c = (struct ide_controller *)dev;
    unsigned i, k;
    for (i = 0; i < 2; i++) {
        for (k = 0; k < 2; k++)
            if (c->channels[i].drives[k])
                ide_detach(c->channels[i].drives[k]);
        region_remove(dev->emu, &dev->emu->ports, &c->channels[i].command_ports);
        region_remove(dev->emu, &dev->emu->ports, &c->channels[i].control_port);
    }
    pci_device_remove(&c->pci);
}

EMU_PRIV const struct device_class ide_class = {
    .name = "piix3-ide", .bus = "pci", .help = "Intel PIIX3 IDE controller, two channels with bus-master DMA",
    .instance_size = sizeof(struct ide_controller), .create = ide_create, .reset = ide_reset, .destroy = ide_destroy,
};
#undef IDE_GAP_NS
