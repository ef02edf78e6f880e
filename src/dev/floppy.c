/* dev/floppy.c - floppy disk controller with two drives.
 *
 * Models     Intel 82077AA data sheet 290166-007 in AT mode; drives of 5.25 and 3.5 inch, media from 160 KB to 2.88 MB.
 * Contract   Ports 3F1h-3F5h and 3F7h (3F6h is the IDE's), IRQ 6, DMA channel 2. Each drive is a struct blk named by driveA= and driveB=;
 *            without driveA there is still an empty drive A, as on QEMU's pc, unless the machine has no default devices.
 * Theory     A command is collected byte by byte, executed, and leaves result bytes. Transfers go sector by sector:
 *
 *                idle -- last parameter --> executing -- fdc_start_sector --> reading sector (blk) -- fdc_sector_read --> moving bytes
 *                  ^                                                                                          | DMA, or FIFO by the CPU
 *                  '-- last result byte read -- result <-- fdc_finish -- TC, EOT or error <-- fdc_sector_done <-'  (writes: bytes, then blk)
 *
 *            Mechanical delays are short fixed times of virtual time: interrupts never come inside the port write that causes them.
 * Invariants 1. While phase is FDC_EXECUTE exactly one of: request in flight, timer armed, or the FIFO waits for the CPU.
 *            2. position <= FDC_SECTOR; parameters and results never exceed their arrays.
 *            3. IRQ 6 is level = irq_pending and DOR.DMAGATE.
 * Missing    SCAN commands (answered as invalid), deleted data marks (read like data), CRC and gap contents, sector sizes other than 512.
 */
#include "../machine.h"
#include "dev.h"

enum {
    FDC_SRB = 1, FDC_DOR = 2, FDC_TDR = 3, FDC_MSR = 4, FDC_FIFO = 5, /* offsets from 3F0h; DSR is MSR's write side */
    FDC_DOR_NRESET = 4, FDC_DOR_DMAGATE = 8, FDC_DSR_RESET = 0x80,
    FDC_MSR_RQM = 0x80, FDC_MSR_DIO = 0x40, FDC_MSR_NONDMA = 0x20, FDC_MSR_BUSY = 0x10,
    FDC_DIR_CHANGED = 0x80,
    FDC_ST0_ABNORMAL = 0x40, FDC_ST0_INVALID = 0x80, FDC_ST0_POLLED = 0xC0, FDC_ST0_SEEK_END = 0x20, FDC_ST0_EQUIPMENT = 0x10,
    FDC_ST1_END = 0x80, FDC_ST1_OVERRUN = 0x10, FDC_ST1_NO_DATA = 0x04, FDC_ST1_PROTECTED = 0x02, FDC_ST1_NO_MARK = 0x01,
    FDC_ST1_CRC = 0x20, FDC_ST2_CRC = 0x20, FDC_ST2_WRONG_TRACK = 0x10,
    FDC_ST3_PROTECTED = 0x40, FDC_ST3_READY = 0x20, FDC_ST3_TRACK0 = 0x10, FDC_ST3_TWO_SIDED = 0x08,
    FDC_CONFIG_IMPLIED_SEEK = 0x40, FDC_CONFIG_NO_FIFO = 0x20, FDC_CONFIG_NO_POLL = 0x10,
    FDC_MULTI_TRACK = 0x80, FDC_SPECIFY_NO_DMA = 1,
    FDC_DRIVES = 4, FDC_REAL_DRIVES = 2, FDC_SECTOR = 512, FDC_SIZE_CODE = 2, FDC_MAX_TRACK = 84, FDC_DMA_CHANNEL = 2
};
enum fdc_phase { FDC_IDLE, FDC_EXECUTE, FDC_RESULT };
enum fdc_command {
    FDC_READ_TRACK = 0x02, FDC_SPECIFY = 0x03, FDC_SENSE_DRIVE = 0x04, FDC_WRITE = 0x05, FDC_READ = 0x06, FDC_RECALIBRATE = 0x07,
    FDC_SENSE_INTERRUPT = 0x08, FDC_WRITE_DELETED = 0x09, FDC_READ_ID = 0x0A, FDC_READ_DELETED = 0x0C, FDC_FORMAT = 0x0D, FDC_DUMPREG = 0x0E,
    FDC_SEEK = 0x0F, FDC_VERSION = 0x10, FDC_PERPENDICULAR = 0x12, FDC_CONFIGURE = 0x13, FDC_LOCK = 0x14, FDC_VERIFY = 0x16, FDC_PART_ID = 0x18
};
#define FDC_STEP_NS (100 * NS_PER_US)      /* seek, recalibrate, read id */
#define FDC_RESET_NS (50 * NS_PER_US)      /* from the end of reset to its interrupt */
#define FDC_DMA_RETRY_NS (100 * NS_PER_US) /* the channel is masked: look again */
#define FDC_DMA_RETRIES 20000              /* two seconds, then overrun */

struct fdc_format { /* by image size; rate: what CCR must say to read it (0: 500, 1: 300, 2: 250 kbit/s, 3: 1 Mbit/s) */
    uint16_t kib;
    uint8_t tracks, heads, sectors, rate, cmos;
};
static const struct fdc_format fdc_formats[] = {
    { 1440, 80, 2, 18, 0, 4 }, { 2880, 80, 2, 36, 3, 5 }, { 1200, 80, 2, 15, 0, 2 }, { 720, 80, 2, 9, 2, 4 }, { 360, 40, 2, 9, 1, 2 },
    { 1680, 80, 2, 21, 0, 4 }, { 1722, 82, 2, 21, 0, 4 }, { 1600, 80, 2, 20, 0, 4 }, { 1520, 80, 2, 19, 0, 4 }, { 1743, 83, 2, 21, 0, 4 },
    { 1760, 80, 2, 22, 0, 4 }, { 1840, 80, 2, 23, 0, 4 }, { 1920, 80, 2, 24, 0, 4 }, { 3200, 80, 2, 40, 3, 5 }, { 800, 80, 2, 10, 2, 4 },
    { 820, 82, 2, 10, 2, 4 }, { 320, 40, 2, 8, 1, 2 }, { 180, 40, 1, 9, 1, 2 }, { 160, 40, 1, 8, 1, 2 }, { 400, 40, 2, 10, 1, 2 },
};

struct fdc_drive {
    struct fdc *fdc;
    struct blk *blk;      /* NULL: an empty drive (present), or none */
    bool present, changed;
    bool medium;
    struct fdc_format format; /* of the medium */
    uint8_t track, perpendicular;
    bool seeking, seek_done;
    uint8_t seek_st0;
    struct timer seek_timer;
};
struct fdc {
    struct device dev;
    struct region low, high;
    struct fdc_drive drive[FDC_DRIVES];
    uint8_t dor, tdr, dsr, ccr;
    uint8_t phase;
    uint8_t command[9], result[16];
    uint8_t command_size, command_need, result_size, result_at;
    uint8_t specify[2], config, precompensation;
    bool locked, irq_pending, irq_level;
    uint8_t reset_reports; /* SENSE INTERRUPT answers still owed after a reset */
    /* transfer in progress */
    uint8_t op;
    bool writing, moving, no_dma, terminal, verify;
    uint8_t unit, cylinder, head, sector, end, count;
    unsigned position, size, retries;
    uint8_t data[FDC_SECTOR];
    struct blk_request request;
    struct host_iov iov;
    bool in_flight;
    struct timer timer; /* reset interrupt, DMA retry, READ ID */
    void (*timer_step)(struct fdc *s);
};

static void fdc_move(struct fdc *s);
static void fdc_start_sector(struct fdc *s);

/* ---- interrupt ---- */

static void fdc_update_irq(struct fdc *s)
{
    bool level = s->irq_pending && (s->dor & FDC_DOR_DMAGATE);
    if (level != s->irq_level) {
        struct irq line = board_gsi(s->dev.emu, 6);
        s->irq_level = level;
        irq_set(&line, level);
    }
}

static void fdc_set_irq(struct fdc *s, bool on)
{
    s->irq_pending = on;
    fdc_update_irq(s);
}

/* ---- media ---- */

static void fdc_load_medium(struct fdc_drive *d)
{
    size_t i;
    uint64_t size = d->blk ? d->blk->size_bytes : 0;
    d->medium = d->blk && d->blk->image && size;
    memset(&d->format, 0, sizeof d->format);
    if (!d->medium)
        return;
    for (i = 0; i < EMU_ARRAY_LEN(fdc_formats); i++)
        if (size == (uint64_t)fdc_formats[i].kib * KIB) {
            d->format = fdc_formats[i];
            return;
        }
    d->format = fdc_formats[size > 1440 * KIB ? 1 : 0]; /* odd sizes: the common geometry that holds it; reads past its end fail */
}

static void fdc_media_changed(void *opaque)
{
    struct fdc_drive *d = opaque;
    d->changed = true;
    fdc_load_medium(d);
}

EMU_PRIV unsigned fdc_drive_type(struct emu *e, unsigned drive)
{
    struct fdc *s = chipset_of(e) ? chipset_of(e)->fdc : NULL;
    if (!s || drive >= FDC_REAL_DRIVES || !s->drive[drive].present)
        return 0;
    return s->drive[drive].medium ? s->drive[drive].format.cmos : 5; /* an empty drive takes anything */
}

static bool fdc_read_only(const struct fdc_drive *d) { return d->blk && d->blk->read_only; }

/* ---- results ---- */

static void fdc_idle(struct fdc *s)
{
    s->phase = FDC_IDLE;
    s->command_size = s->command_need = 0;
    s->result_size = s->result_at = 0;
}

static void fdc_give(struct fdc *s, const uint8_t *bytes, unsigned n)
{
    memcpy(s->result, bytes, n);
    s->phase = FDC_RESULT;
    s->result_size = (uint8_t)n;
    s->result_at = 0;
}

static void fdc_give_byte(struct fdc *s, uint8_t byte) { fdc_give(s, &byte, 1); }

/* End of a transfer command: seven result bytes and the interrupt. */
static void fdc_finish(struct fdc *s, uint8_t st0, uint8_t st1, uint8_t st2)
{
    uint8_t r[7];
    r[0] = (uint8_t)(st0 | s->head << 2 | s->unit);
    r[1] = st1;
    r[2] = st2;
    r[3] = s->cylinder;
    r[4] = s->head;
    r[5] = s->sector;
    r[6] = FDC_SIZE_CODE;
    s->moving = false;
    fdc_give(s, r, sizeof r);
    fdc_set_irq(s, true);
}

static void fdc_later(struct fdc *s, int64_t ns, void (*step)(struct fdc *s))
{
    s->timer_step = step;
    timer_arm(&s->timer, emu_now_ns(s->dev.emu) + ns);
}

static void fdc_timer(void *opaque)
{
    struct fdc *s = opaque;
    s->timer_step(s);
}

/* ---- transfers ---- */

/* The next sector id in the order of data sheet table 5-6 (result phase). False: the last of the command was done. */
static bool fdc_next_sector(struct fdc *s)
{
    bool multi = (s->command[0] & FDC_MULTI_TRACK) != 0;
    if (s->sector != s->end) {
        s->sector++;
        return true;
    }
    s->sector = 1;
    if (multi && !(s->head & 1)) {
        s->head ^= 1;
        return true;
    }
    if (multi)
        s->head ^= 1;
    s->cylinder++;
    return false;
}

static void fdc_sector_done(struct fdc *s)
{
    bool more = fdc_next_sector(s);
    if (s->verify && s->count && --s->count == 0)
        more = false;
    if (s->terminal)
        fdc_finish(s, 0, 0, 0);
    else if (more)
        fdc_start_sector(s);
    else if (s->verify || s->op == FDC_READ_TRACK)
        fdc_finish(s, 0, 0, 0);
    else
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_END, 0); /* no TC until the end of the track: the 82077 calls it abnormal */
}

static void fdc_format_next(struct fdc *s);

static void fdc_blk_done(void *opaque, int result)
{
    struct fdc *s = opaque;
    s->in_flight = false;
    if (result < 0) {
        fdc_finish(s, FDC_ST0_ABNORMAL, result == EMU_EROFS ? FDC_ST1_PROTECTED : FDC_ST1_CRC, result == EMU_EROFS ? 0 : FDC_ST2_CRC);
    } else if (s->op == FDC_FORMAT) {
        fdc_format_next(s);
    } else if (s->writing || s->verify) {
        fdc_sector_done(s);
    } else {
        s->position = 0;
        s->size = FDC_SECTOR;
        s->moving = true;
        s->retries = 0;
        fdc_move(s);
    }
}

static void fdc_submit(struct fdc *s, uint8_t op)
{
    struct fdc_drive *d = &s->drive[s->unit];
    uint64_t lba = ((uint64_t)d->track * d->format.heads + (s->head & 1)) * d->format.sectors + (s->sector - 1u);
    if (!d->medium || (lba + 1) * FDC_SECTOR > d->blk->size_bytes) {
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_DATA, 0);
        return;
    }
    memset(&s->request, 0, sizeof s->request);
    s->iov.base = s->data;
    s->iov.size = FDC_SECTOR;
    s->request.op = op;
    s->request.offset = lba * FDC_SECTOR;
    s->request.size = FDC_SECTOR;
    s->request.iov = &s->iov;
    s->request.iov_count = 1;
    s->request.done = fdc_blk_done;
    s->request.opaque = s;
    s->in_flight = true;
    blk_submit(d->blk, &s->request);
}

/* Can the chosen sector be there? Ends the command if not. */
static bool fdc_find_sector(struct fdc *s)
{
    struct fdc_drive *d = &s->drive[s->unit];
    if (!d->medium || (s->ccr & 3) != d->format.rate) {
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_MARK, 0);
        return false;
    }
    if ((s->config & FDC_CONFIG_IMPLIED_SEEK) && s->cylinder < FDC_MAX_TRACK) {
        d->track = s->cylinder;
        d->changed = false;
    }
    if (s->cylinder != d->track || d->track >= d->format.tracks) {
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_DATA, FDC_ST2_WRONG_TRACK);
        return false;
    }
    if (!s->sector || s->sector > d->format.sectors || (s->head & 1) >= d->format.heads || s->command[5] != FDC_SIZE_CODE) {
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_DATA, 0);
        return false;
    }
    return true;
}

static void fdc_start_sector(struct fdc *s)
{
    if (!fdc_find_sector(s))
        return;
    if (!s->writing) {
        fdc_submit(s, BLK_READ);
        return;
    }
    s->position = 0;
    s->size = FDC_SECTOR;
    s->moving = true;
    s->retries = 0;
    fdc_move(s);
}

/* All bytes of this step are here (writes) or gone (reads). */
static void fdc_moved(struct fdc *s)
{
    s->moving = false;
    if (s->op == FDC_FORMAT)
        fdc_format_next(s);
    else if (s->writing)
        fdc_submit(s, BLK_WRITE);
    else
        fdc_sector_done(s);
}

/* Moves bytes between data[] and DMA, or leaves them to the CPU with an interrupt. */
static void fdc_move(struct fdc *s)
{
    bool terminal;
    size_t n;
    if (s->no_dma) {
        fdc_set_irq(s, true);
        return;
    }
    n = dma8237_transfer(s->dev.emu, FDC_DMA_CHANNEL, s->data + s->position, s->size - s->position, !s->writing, &terminal);
    s->position += (unsigned)n;
    if (terminal) {
        s->terminal = true;
        if (s->writing && s->position < s->size)
            memset(s->data + s->position, 0, s->size - s->position); /* the rest of a cut-off sector */
        s->position = s->size;
    }
    if (s->position == s->size)
        fdc_moved(s);
    else if (++s->retries > FDC_DMA_RETRIES)
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_OVERRUN, 0);
    else
        fdc_later(s, FDC_DMA_RETRY_NS, fdc_move);
}

static void fdc_begin_transfer(struct fdc *s)
{
    const uint8_t *c = s->command;
    s->op = c[0] & 0x1F;
    s->writing = s->op == FDC_WRITE || s->op == FDC_WRITE_DELETED;
    s->verify = s->op == FDC_VERIFY;
    s->unit = c[1] & 3;
    s->cylinder = c[2];
    s->head = c[3] & 1;
    s->sector = s->op == FDC_READ_TRACK ? 1 : c[4];
    s->end = c[6];
    s->count = s->verify && (c[1] & 0x80) ? c[8] : 0; /* EC: the last byte counts sectors */
    s->no_dma = (s->specify[1] & FDC_SPECIFY_NO_DMA) != 0;
    s->terminal = false;
    s->phase = FDC_EXECUTE;
    if (s->writing && fdc_read_only(&s->drive[s->unit]))
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_PROTECTED, 0);
    else if (((c[1] >> 2) & 1) != s->head)
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_DATA, 0); /* the id field names another head */
    else
        fdc_start_sector(s);
}

/* FORMAT TRACK: four bytes (C, H, R, N) for each sector come by DMA or FIFO; the sector is filled with the pattern. */
static void fdc_format_next(struct fdc *s)
{
    if (s->position && s->size == 4) { /* an id has come: write that sector */
        s->cylinder = s->data[0];
        s->sector = s->data[2];
        s->position = 0;
        s->size = FDC_SECTOR;
        if (!s->sector || s->sector > s->drive[s->unit].format.sectors || s->data[3] != FDC_SIZE_CODE) {
            fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_DATA, 0);
            return;
        }
        memset(s->data, s->command[5], FDC_SECTOR);
        fdc_submit(s, BLK_WRITE);
        return;
    }
    if (s->count-- == 0) {
        fdc_finish(s, 0, 0, 0);
        return;
    }
    s->position = 0;
    s->size = 4;
    s->moving = true;
    s->retries = 0;
    fdc_move(s);
}

static void fdc_begin_format(struct fdc *s)
{
    const uint8_t *c = s->command;
    struct fdc_drive *d;
    s->op = FDC_FORMAT;
    s->writing = true;
    s->verify = s->terminal = false;
    s->unit = c[1] & 3;
    s->head = (c[1] >> 2) & 1;
    d = &s->drive[s->unit];
    s->cylinder = d->track;
    s->sector = 1;
    s->count = c[3];
    s->no_dma = (s->specify[1] & FDC_SPECIFY_NO_DMA) != 0;
    s->position = 0;
    s->size = 0;
    s->phase = FDC_EXECUTE;
    if (!d->medium || d->track >= d->format.tracks || s->head >= d->format.heads || (s->ccr & 3) != d->format.rate)
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_MARK, 0);
    else if (fdc_read_only(d))
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_PROTECTED, 0);
    else
        fdc_format_next(s);
}

static void fdc_id_read(struct fdc *s)
{
    struct fdc_drive *d = &s->drive[s->unit];
    if (!d->medium || (s->ccr & 3) != d->format.rate || d->track >= d->format.tracks || s->head >= d->format.heads)
        fdc_finish(s, FDC_ST0_ABNORMAL, FDC_ST1_NO_MARK, 0);
    else
        fdc_finish(s, 0, 0, 0);
}

static void fdc_begin_read_id(struct fdc *s)
{
    s->op = FDC_READ_ID;
    s->unit = s->command[1] & 3;
    s->head = (s->command[1] >> 2) & 1;
    s->cylinder = s->drive[s->unit].track;
    s->sector = 1;
    s->phase = FDC_EXECUTE;
    fdc_later(s, FDC_STEP_NS, fdc_id_read);
}

/* ---- seeks ---- */

static void fdc_seek_end(void *opaque)
{
    struct fdc_drive *d = opaque;
    d->seeking = false;
    d->seek_done = true;
    fdc_set_irq(d->fdc, true);
}

static void fdc_seek(struct fdc *s, unsigned unit, unsigned track, bool recalibrate)
{
    struct fdc_drive *d = &s->drive[unit];
    uint8_t head = recalibrate ? 0 : s->command[1] & 4;
    d->seek_st0 = (uint8_t)(FDC_ST0_SEEK_END | head | unit);
    if (d->present) {
        d->track = (uint8_t)EMU_MIN(track, FDC_MAX_TRACK - 1u);
        if (d->medium)
            d->changed = false; /* stepping with a disk in clears the change line */
    } else if (recalibrate) {
        d->seek_st0 |= FDC_ST0_ABNORMAL | FDC_ST0_EQUIPMENT; /* no track 0 signal */
    }
    d->seeking = true;
    d->seek_done = false;
    timer_arm(&d->seek_timer, emu_now_ns(s->dev.emu) + FDC_STEP_NS);
    fdc_idle(s);
}

static void fdc_sense_interrupt(struct fdc *s)
{
    uint8_t r[2] = { 0, 0 };
    unsigned i;
    fdc_set_irq(s, false);
    if (s->reset_reports) {
        i = 4u - s->reset_reports--;
        r[0] = (uint8_t)(FDC_ST0_POLLED | i);
        r[1] = s->drive[i].track;
        fdc_give(s, r, 2);
        return;
    }
    for (i = 0; i < FDC_DRIVES; i++)
        if (s->drive[i].seek_done) {
            s->drive[i].seek_done = false;
            r[0] = s->drive[i].seek_st0;
            r[1] = s->drive[i].track;
            fdc_give(s, r, 2);
            for (i = 0; i < FDC_DRIVES; i++)
                if (s->drive[i].seek_done)
                    fdc_set_irq(s, true); /* another drive's seek is still to be told */
            return;
        }
    fdc_give_byte(s, FDC_ST0_INVALID);
}

/* ---- the other commands ---- */

static void fdc_sense_drive(struct fdc *s)
{
    unsigned unit = s->command[1] & 3;
    struct fdc_drive *d = &s->drive[unit];
    fdc_give_byte(s, (uint8_t)(unit | (s->command[1] & 4) | FDC_ST3_TWO_SIDED | FDC_ST3_READY | (d->present && !d->track ? FDC_ST3_TRACK0 : 0) |
                               (fdc_read_only(d) ? FDC_ST3_PROTECTED : 0)));
}

static void fdc_dumpreg(struct fdc *s)
{
    uint8_t r[10];
    unsigned i;
    for (i = 0; i < 4; i++)
        r[i] = s->drive[i].track;
    r[4] = s->specify[0];
    r[5] = s->specify[1];
    r[6] = s->end;
    r[7] = (uint8_t)(s->locked << 7 | s->drive[0].perpendicular);
    r[8] = s->config;
    r[9] = s->precompensation;
    fdc_give(s, r, sizeof r);
}

/* Bytes of a command with its parameters; 0: there is no such command (data sheet table 5-1). */
static unsigned fdc_command_bytes(uint8_t c)
{
    if (c == 0x8F || c == 0xCF) /* relative seek */
        return 3;
    switch (c & 0x1F) {
    case FDC_READ:
    case FDC_READ_DELETED:
    case FDC_READ_TRACK:
    case FDC_WRITE:
    case FDC_WRITE_DELETED:
    case FDC_VERIFY: return 9;
    case FDC_FORMAT: return 6;
    case FDC_READ_ID: return 2;
    default: break;
    }
    switch (c) {
    case FDC_SPECIFY:
    case FDC_SEEK: return 3;
    case FDC_SENSE_DRIVE:
    case FDC_RECALIBRATE:
    case FDC_PERPENDICULAR: return 2;
    case FDC_CONFIGURE: return 4;
    case FDC_SENSE_INTERRUPT:
    case FDC_DUMPREG:
    case FDC_VERSION:
    case FDC_PART_ID:
    case FDC_LOCK:
    case FDC_LOCK | 0x80: return 1;
    default: return 0;
    }
}

static void fdc_execute(struct fdc *s)
{
    const uint8_t *c = s->command;
    unsigned unit = c[1] & 3;
    if (c[0] == 0x8F || c[0] == 0xCF) {
        int to = s->drive[unit].track + (c[0] == 0xCF ? c[2] : -(int)c[2]);
        fdc_seek(s, unit, to < 0 ? 0 : (unsigned)to, false);
        return;
    }
    switch (c[0] & 0x1F) {
    case FDC_READ:
    case FDC_READ_DELETED:
    case FDC_READ_TRACK:
    case FDC_WRITE:
    case FDC_WRITE_DELETED:
    case FDC_VERIFY: fdc_begin_transfer(s); break;
    case FDC_FORMAT: fdc_begin_format(s); break;
    case FDC_READ_ID: fdc_begin_read_id(s); break;
    case FDC_SPECIFY:
        s->specify[0] = c[1];
        s->specify[1] = c[2];
        fdc_idle(s);
        break;
    case FDC_SENSE_DRIVE: fdc_sense_drive(s); break;
    case FDC_RECALIBRATE: fdc_seek(s, unit, 0, true); break;
    case FDC_SENSE_INTERRUPT: fdc_sense_interrupt(s); break;
    case FDC_DUMPREG: fdc_dumpreg(s); break;
    case FDC_SEEK: fdc_seek(s, unit, c[2], false); break;
    case FDC_VERSION: fdc_give_byte(s, 0x90); break; /* enhanced controller */
    case FDC_PART_ID: fdc_give_byte(s, 0x41); break;
    case FDC_PERPENDICULAR:
        s->drive[0].perpendicular = c[1] & 0x7F;
        fdc_idle(s);
        break;
    case FDC_CONFIGURE:
        s->config = c[2] & 0x7F;
        s->precompensation = c[3];
        fdc_idle(s);
        break;
    case FDC_LOCK:
        s->locked = (c[0] & 0x80) != 0;
        fdc_give_byte(s, (uint8_t)(s->locked << 4));
        break;
    default: break;
    }
}

/* ---- reset ---- */

static void fdc_abort(struct fdc *s)
{
    unsigned i;
    if (s->in_flight)
        blk_cancel(s->drive[s->unit].blk, &s->request);
    s->in_flight = s->moving = false;
    timer_cancel(&s->timer);
    for (i = 0; i < FDC_DRIVES; i++) {
        timer_cancel(&s->drive[i].seek_timer);
        s->drive[i].seeking = s->drive[i].seek_done = false;
    }
    fdc_idle(s);
}

static void fdc_reset_state(struct fdc *s)
{
    unsigned i;
    fdc_abort(s);
    s->reset_reports = 0;
    for (i = 0; i < FDC_DRIVES; i++)
        s->drive[i].track = 0;
    if (!s->locked) {
        s->config = FDC_CONFIG_NO_FIFO;
        s->precompensation = 0;
    } else { /* 82077AA 5.2: LOCK keeps EFIFO, FIFOTHR and PRETRK */
        s->config &= (uint8_t) ~(FDC_CONFIG_IMPLIED_SEEK | FDC_CONFIG_NO_POLL);
    }
    fdc_set_irq(s, false);
}

static void fdc_reset_interrupt(struct fdc *s)
{
    if (s->config & FDC_CONFIG_NO_POLL)
        return;
    s->reset_reports = 4;
    fdc_set_irq(s, true);
}

static void fdc_write_dor(struct fdc *s, uint8_t value)
{
    uint8_t was = s->dor;
    s->dor = value;
    if (!(value & FDC_DOR_NRESET)) {
        if (was & FDC_DOR_NRESET)
            fdc_reset_state(s);
    } else if (!(was & FDC_DOR_NRESET)) {
        fdc_later(s, FDC_RESET_NS, fdc_reset_interrupt);
    }
    fdc_update_irq(s);
}

/* ---- registers ---- */

static uint8_t fdc_read_msr(const struct fdc *s)
{
    uint8_t v = 0;
    unsigned i;
    if (!(s->dor & FDC_DOR_NRESET))
        return 0;
    for (i = 0; i < FDC_DRIVES; i++)
        if (s->drive[i].seeking)
            v |= (uint8_t)(1u << i);
    switch (s->phase) {
    case FDC_IDLE: return (uint8_t)(v | FDC_MSR_RQM | (s->command_size ? FDC_MSR_BUSY : 0));
    case FDC_RESULT: return v | FDC_MSR_RQM | FDC_MSR_DIO | FDC_MSR_BUSY;
    default: break;
    }
    v |= FDC_MSR_BUSY;
    if (s->no_dma && s->op != FDC_READ_ID && !s->verify)
        v |= FDC_MSR_NONDMA;
    if (s->no_dma && s->moving)
        v |= (uint8_t)(FDC_MSR_RQM | (s->writing ? 0 : FDC_MSR_DIO));
    return v;
}

static uint8_t fdc_read_fifo(struct fdc *s)
{
    uint8_t v;
    if (s->phase == FDC_RESULT) {
        v = s->result[s->result_at++];
        if (s->result_size > 2)
            fdc_set_irq(s, false);
        if (s->result_at == s->result_size)
            fdc_idle(s);
        return v;
    }
    if (s->phase != FDC_EXECUTE || !s->moving || !s->no_dma || s->writing)
        return 0;
    fdc_set_irq(s, false);
    v = s->data[s->position++];
    if (s->position == s->size)
        fdc_moved(s);
    return v;
}

static void fdc_write_fifo(struct fdc *s, uint8_t value)
{
    if (!(s->dor & FDC_DOR_NRESET) || s->phase == FDC_RESULT)
        return;
    if (s->phase == FDC_EXECUTE) {
        if (!s->moving || !s->no_dma || !s->writing)
            return;
        fdc_set_irq(s, false);
        s->data[s->position++] = value;
        if (s->position == s->size)
            fdc_moved(s);
        return;
    }
    if (!s->command_size) {
        s->command_need = (uint8_t)fdc_command_bytes(value);
        if (!s->command_need) {
            emu_log(s->dev.emu, LOG_UNIMP, "isa-fdc: command %02x: answered as invalid", value);
            fdc_give_byte(s, FDC_ST0_INVALID);
            return;
        }
    }
    s->command[s->command_size++] = value;
    if (s->command_size == s->command_need) {
        s->command_size = 0;
        fdc_execute(s);
    }
}

static uint64_t fdc_read(void *opaque, uint64_t offset, unsigned size)
{
    struct fdc *s = opaque;
    (void)size;
    switch (offset + FDC_SRB) {
    case FDC_SRB: return 0xC0; /* no tape, no data lines active */
    case FDC_DOR: return s->dor;
    case FDC_TDR: return s->tdr;
    case FDC_MSR: return fdc_read_msr(s);
    default: return fdc_read_fifo(s);
    }
}

static void fdc_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct fdc *s = opaque;
    (void)size;
    switch (offset + FDC_SRB) {
    case FDC_DOR: fdc_write_dor(s, (uint8_t)value); break;
    case FDC_TDR: s->tdr = value & 3; break;
    case FDC_MSR: /* data rate select */
        s->dsr = (uint8_t)value & 0x7F;
        s->ccr = value & 3;
        if (value & FDC_DSR_RESET) {
            fdc_reset_state(s);
            fdc_later(s, FDC_RESET_NS, fdc_reset_interrupt);
        }
        break;
    case FDC_FIFO: fdc_write_fifo(s, (uint8_t)value); break;
    default: break;
    }
}

static uint64_t fdc_dir_read(void *opaque, uint64_t offset, unsigned size)
{
    struct fdc *s = opaque;
    const struct fdc_drive *d = &s->drive[s->dor & 3];
    (void)offset;
    (void)size;
    return d->present && (d->changed || !d->medium) ? FDC_DIR_CHANGED : 0;
}

static void fdc_ccr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)size;
    ((struct fdc *)opaque)->ccr = value & 3;
}

static const struct region_ops fdc_ops = { fdc_read, fdc_write, 1, 1, false };
static const struct region_ops fdc_high_ops = { fdc_dir_read, fdc_ccr_write, 1, 1, false };

/* ---- the device ---- */

static int fdc_attach(struct fdc *s, unsigned unit, const char *id, struct err *err)
{
    struct fdc_drive *d = &s->drive[unit];
    d->present = id || (unit == 0 && !s->dev.emu->config.no_defaults);
    if (!id)
        return 0;
    d->blk = blk_find(s->dev.emu, id);
    if (!d->blk)
        return err_set(err, EMU_ENOENT, "isa-fdc: there is no drive %s", id);
    if (d->blk->in_use) {
        d->blk = NULL;
        return err_set(err, EMU_EBUSY, "isa-fdc: drive %s is used by another device", id);
    }
    d->blk->in_use = true;
    d->blk->media_changed = fdc_media_changed;
    d->blk->opaque = d;
    fdc_media_changed(d);
    return 0;
}

static void fdc_destroy(struct device *dev)
{
    struct fdc *s = EMU_CONTAINER(dev, struct fdc, dev);
    unsigned i;
    fdc_abort(s);
    for (i = 0; i < FDC_DRIVES; i++)
        if (s->drive[i].blk) {
            s->drive[i].blk->in_use = false;
            s->drive[i].blk->media_changed = NULL;
        }
    region_remove(dev->emu, &dev->emu->ports, &s->low);
    region_remove(dev->emu, &dev->emu->ports, &s->high);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->fdc = NULL;
}

static int fdc_create(struct device *dev, struct options *opts, struct err *err)
{
    struct fdc *s = EMU_CONTAINER(dev, struct fdc, dev);
    unsigned i;
    int r;
    if (!chipset_get(dev->emu))
        return err_set(err, EMU_ENOMEM, "out of memory");
    timer_init(&s->timer, dev->emu, fdc_timer, s);
    for (i = 0; i < FDC_DRIVES; i++) {
        s->drive[i].fdc = s;
        timer_init(&s->drive[i].seek_timer, dev->emu, fdc_seek_end, &s->drive[i]);
    }
    r = fdc_attach(s, 0, options_get(opts, "driveA"), err);
    r = r ? r : fdc_attach(s, 1, options_get(opts, "driveB"), err);
    if (r) {
        fdc_destroy(dev);
        return r;
    }
    chipset_of(dev->emu)->fdc = s;
    port_add(dev->emu, &s->low, "fdc", 0x3F0 + FDC_SRB, 5, &fdc_ops, s);
    return port_add(dev->emu, &s->high, "fdc-dir", 0x3F7, 1, &fdc_high_ops, s);
}

static void fdc_reset(struct device *dev)
{
    struct fdc *s = EMU_CONTAINER(dev, struct fdc, dev);
    s->locked = false;
    fdc_reset_state(s);
    s->dor = FDC_DOR_NRESET | FDC_DOR_DMAGATE;
    s->tdr = s->dsr = s->ccr = 0;
    s->specify[0] = s->specify[1] = 0;
    s->drive[0].perpendicular = 0;
    fdc_update_irq(s);
}

static const struct opt_desc fdc_options[] = {
    { "driveA", "drive", "first drive" },
    { "driveB", "drive", "second drive" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class fdc_class = {
    .name = "isa-fdc", .bus = "isa", .help = "82077AA floppy disk controller", .options = fdc_options, .instance_size = sizeof(struct fdc),
    .create = fdc_create, .reset = fdc_reset, .destroy = fdc_destroy,
};
#undef FDC_STEP_NS
#undef FDC_RESET_NS
#undef FDC_DMA_RETRY_NS
#undef FDC_DMA_RETRIES
