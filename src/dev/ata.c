/* dev/ata.c - an ATA hard disk ("ide-hd").
 *
 * Models     ATA/ATAPI-6 (T13 1410D): register and PIO/DMA protocols, 28- and 48-bit addressing, write cache, SMART; DATA SET
 *            MANAGEMENT (TRIM) from ATA8-ACS-2; CHS translation by INITIALIZE DEVICE PARAMETERS from ATA-5 for old systems.
 * Contract   Attaches to a channel of ide.c and answers its commands through the helpers of ide.h. Data lives in a struct blk.
 * Theory     A transfer command sets lba, left and how data moves, then alternates between a block request and windows:
 *
 *              read:   ata_read_more --blk--> ata_read_filled --window--> ata_read_taken --+--> ata_read_more | done
 *              write:  ata_write_more --window--> ata_write_filled --blk--> ata_write_stored --+--> ata_write_more | done
 *
 *            PIO reads fetch up to a buffer ahead; DRQ blocks are then cut from it. When such a fetch fails it is repeated
 *            sector by sector, so that the task file names the bad one.
 * Invariants 1. lba + left <= sectors while a transfer is under way.
 *            2. A write is reported done only when blk has it; with the write cache off or FUA, only after a flush.
 * Missing    Security, HPA and DCO, queued commands, streaming, firmware download: aborted, as their IDENTIFY bits say.
 *            SMART keeps no history.
 */
#include "../machine.h"
#include "dev.h"
#include "ide.h"

#define ATA_MAX_MULTIPLE 16u
#define ATA_BUF_SECTORS (IDE_BUF_BYTES / IDE_SECTOR_BYTES)
#define ATA_RANGE_BYTES 8u

enum ata_command { /* ATA/ATAPI-6 table A.2 */
    ATA_NOP = 0x00,
    ATA_DATA_SET_MANAGEMENT = 0x06,
    ATA_RECALIBRATE = 0x10, /* 10h-1Fh */
    ATA_READ_SECTORS = 0x20,
    ATA_READ_SECTORS_NO_RETRY = 0x21,
    ATA_READ_SECTORS_EXT = 0x24,
    ATA_READ_DMA_EXT = 0x25,
    ATA_READ_NATIVE_MAX_EXT = 0x27,
    ATA_READ_MULTIPLE_EXT = 0x29,
    ATA_WRITE_SECTORS = 0x30,
    ATA_WRITE_SECTORS_NO_RETRY = 0x31,
    ATA_WRITE_SECTORS_EXT = 0x34,
    ATA_WRITE_DMA_EXT = 0x35,
    ATA_WRITE_MULTIPLE_EXT = 0x39,
    ATA_WRITE_DMA_FUA_EXT = 0x3D,
    ATA_VERIFY = 0x40,
    ATA_VERIFY_NO_RETRY = 0x41,
    ATA_VERIFY_EXT = 0x42,
    ATA_SEEK = 0x70, /* 70h-7Fh */
    ATA_INIT_PARAMETERS = 0x91,
    ATA_OLD_STANDBY_IMMEDIATE = 0x94,
    ATA_OLD_IDLE_IMMEDIATE = 0x95,
    ATA_OLD_STANDBY = 0x96,
    ATA_OLD_IDLE = 0x97,
    ATA_OLD_CHECK_POWER = 0x98,
    ATA_OLD_SLEEP = 0x99,
    ATA_SMART = 0xB0,
    ATA_READ_MULTIPLE = 0xC4,
    ATA_WRITE_MULTIPLE = 0xC5,
    ATA_SET_MULTIPLE = 0xC6,
    ATA_READ_DMA = 0xC8,
    ATA_READ_DMA_NO_RETRY = 0xC9,
    ATA_WRITE_DMA = 0xCA,
    ATA_WRITE_DMA_NO_RETRY = 0xCB,
    ATA_WRITE_MULTIPLE_FUA_EXT = 0xCE,
    ATA_STANDBY_IMMEDIATE = 0xE0,
    ATA_IDLE_IMMEDIATE = 0xE1,
    ATA_STANDBY = 0xE2,
    ATA_IDLE = 0xE3,
    ATA_CHECK_POWER = 0xE5,
    ATA_SLEEP = 0xE6,
    ATA_FLUSH = 0xE7,
    ATA_FLUSH_EXT = 0xEA,
    ATA_IDENTIFY = 0xEC,
    ATA_SET_FEATURES = 0xEF,
    ATA_READ_NATIVE_MAX = 0xF8
};
enum { ATA_DEVICE_LBA = 0x40 };

struct ata_disk {
    struct ide_drive ide;
    uint64_t sectors;
    char serial[21], model[41];
    uint16_t cylinders, heads, sectors_per_track;       /* default translation */
    uint16_t now_cylinders, now_heads, now_per_track;   /* as INITIALIZE DEVICE PARAMETERS set it */
    uint8_t multiple;                                   /* sectors per DRQ block of the MULTIPLE commands; 0 = off */
    uint8_t mwdma, udma;                                /* selected mode as a bit, 0 = none */
    bool write_cache, look_ahead, smart, standby;

    /* the command under way */
    uint64_t lba;
    uint32_t left;    /* sectors not yet moved */
    uint32_t fetched; /* of them, in buf: read commands */
    uint32_t taken;   /* of fetched, already handed over */
    uint32_t block;   /* sectors per DRQ block */
    uint32_t window;  /* sectors in the present window or write request */
    bool ext, dma, fua, single, chs, first_block;
    uint32_t ranges, range; /* TRIM: number of entries in buf, present one */
};

static struct ata_disk *ata_of(struct ide_drive *d) { return (struct ata_disk *)d; }

/* ---- address registers ---- */

static void ata_put_address(struct ata_disk *a, uint64_t lba)
{
    struct ide_drive *d = &a->ide;
    unsigned i;
    if (a->chs) {
        uint64_t track = lba / a->now_per_track;
        d->lba[0] = (uint8_t)(lba % a->now_per_track + 1);
        d->device = (uint8_t)((d->device & 0xF0) | (track % a->now_heads));
        d->lba[1] = (uint8_t)(track / a->now_heads);
        d->lba[2] = (uint8_t)((track / a->now_heads) >> 8);
        return;
    }
    for (i = 0; i < 3; i++)
        d->lba[i] = (uint8_t)(lba >> (8 * i));
    if (a->ext)
        for (i = 0; i < 3; i++)
            d->hob_lba[i] = (uint8_t)(lba >> (24 + 8 * i));
    else
        d->device = (uint8_t)((d->device & 0xF0) | ((lba >> 24) & 15));
}

static void ata_fail_at(struct ata_disk *a, uint64_t lba, uint8_t error)
{
    ata_put_address(a, lba);
    a->ide.count = (uint8_t)a->left;
    if (a->ext)
        a->ide.hob_count = (uint8_t)(a->left >> 8);
    ide_fail(&a->ide, error);
}

static void ata_done(struct ata_disk *a, bool interrupt)
{
    ata_put_address(a, a->lba - (a->lba ? 1 : 0));
    a->ide.count = a->ide.hob_count = 0;
    if (interrupt)
        ide_finish(&a->ide);
    else
        ide_idle(&a->ide); /* PIO data-in: the last block had its interrupt */
}

/* Takes address and count from the task file; false: the command was failed. */
static bool ata_get_address(struct ata_disk *a, bool ext)
{
    struct ide_drive *d = &a->ide;
    a->ext = ext;
    a->chs = false;
    a->single = a->fua = a->dma = false;
    a->fetched = a->taken = 0;
    a->first_block = true;
    a->left = d->count;
    if (ext) {
        a->lba = d->lba[0] | (uint32_t)d->lba[1] << 8 | (uint32_t)d->lba[2] << 16 | (uint64_t)d->hob_lba[0] << 24 |
                 (uint64_t)d->hob_lba[1] << 32 | (uint64_t)d->hob_lba[2] << 40;
        a->left |= (uint32_t)d->hob_count << 8;
        if (!a->left)
            a->left = 0x10000;
    } else {
        if (!a->left)
            a->left = 0x100;
        if (d->device & ATA_DEVICE_LBA) {
            a->lba = d->lba[0] | (uint32_t)d->lba[1] << 8 | (uint32_t)d->lba[2] << 16 | (uint32_t)(d->device & 15) << 24;
        } else {
            uint32_t cylinder = d->lba[1] | (uint32_t)d->lba[2] << 8, head = d->device & 15, sector = d->lba[0];
            if (!sector || sector > a->now_per_track || head >= a->now_heads) {
                ide_fail(d, IDE_ERROR_IDNF);
                return false;
            }
            a->chs = true;
            a->lba = ((uint64_t)cylinder * a->now_heads + head) * a->now_per_track + sector - 1;
        }
    }
    if (a->lba >= a->sectors || a->left > a->sectors - a->lba) { /* keeps invariant 1 */
        ata_fail_at(a, a->lba >= a->sectors ? a->lba : a->sectors, IDE_ERROR_IDNF);
        return false;
    }
    return true;
}

/* ---- reads ---- */

static void ata_read_more(struct ide_drive *d);

static void ata_read_taken(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    a->taken += a->window;
    a->lba += a->window;
    a->left -= a->window;
    if (!a->left)
        ata_done(a, a->dma);
    else if (a->dma)
        ata_read_more(d);
    else
        ide_gap(d, ata_read_more);
}

static void ata_read_window(struct ata_disk *a)
{
    uint32_t here = a->fetched - a->taken;
    a->window = a->dma ? here : EMU_MIN(here, a->block);
    if (a->dma)
        ide_dma(&a->ide, true, a->taken * IDE_SECTOR_BYTES, a->window * IDE_SECTOR_BYTES, ata_read_taken);
    else
        ide_pio_in(&a->ide, a->taken * IDE_SECTOR_BYTES, a->window * IDE_SECTOR_BYTES, ata_read_taken);
}

static void ata_read_filled(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (!result) {
        ata_read_window(a);
    } else if (a->fetched > 1) { /* find the bad sector */
        a->single = true;
        a->fetched = a->taken = 0;
        ata_read_more(d);
    } else {
        ata_fail_at(a, a->lba, IDE_ERROR_UNC);
    }
}

static void ata_read_more(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    if (a->taken < a->fetched) {
        ata_read_window(a);
        return;
    }
    a->taken = 0;
    a->fetched = a->single ? 1 : EMU_MIN(a->left, ATA_BUF_SECTORS);
    ide_io(d, BLK_READ, a->lba * IDE_SECTOR_BYTES, 0, (uint64_t)a->fetched * IDE_SECTOR_BYTES, ata_read_filled);
}

static void ata_read(struct ata_disk *a, bool ext, uint32_t block, bool dma)
{
    if (!block) { /* READ MULTIPLE before SET MULTIPLE MODE */
        ide_fail(&a->ide, IDE_ERROR_ABRT);
        return;
    }
    if (!ata_get_address(a, ext))
        return;
    a->block = block;
    a->dma = dma;
    ata_read_more(&a->ide);
}

/* ---- writes ---- */

static void ata_write_more(struct ide_drive *d);

static void ata_write_flushed(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result)
        ata_fail_at(a, a->lba - 1, IDE_ERROR_ABRT);
    else
        ata_done(a, true);
}

static void ata_write_stored(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result) {
        emu_log(d->dev.emu, LOG_GUEST_ERROR, "%s: writing sector %" PRIu64 " failed: %s", d->blk->id, a->lba, emu_strerror(result));
        ata_fail_at(a, a->lba, IDE_ERROR_ABRT);
        return;
    }
    a->lba += a->window;
    a->left -= a->window;
    if (a->left)
        ata_write_more(d);
    else if (a->fua || !a->write_cache) /* invariant 2 */
        ide_io(d, BLK_FLUSH, 0, 0, 0, ata_write_flushed);
    else
        ata_done(a, true);
}

static void ata_write_filled(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    ide_io(d, BLK_WRITE, a->lba * IDE_SECTOR_BYTES, 0, (uint64_t)a->window * IDE_SECTOR_BYTES, ata_write_stored);
}

static void ata_write_more(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    bool first = a->first_block;
    a->first_block = false;
    a->window = EMU_MIN(a->left, a->dma ? ATA_BUF_SECTORS : a->block);
    if (a->dma)
        ide_dma(d, false, 0, a->window * IDE_SECTOR_BYTES, ata_write_filled);
    else
        ide_pio_out(d, 0, a->window * IDE_SECTOR_BYTES, !first, ata_write_filled);
}

static void ata_write(struct ata_disk *a, bool ext, uint32_t block, bool dma, bool fua)
{
    if (!block || a->ide.blk->read_only) {
        ide_fail(&a->ide, IDE_ERROR_ABRT);
        return;
    }
    if (!ata_get_address(a, ext))
        return;
    a->block = block;
    a->dma = dma;
    a->fua = fua;
    ata_write_more(&a->ide);
}

/* ---- flush, verify, trim ---- */

static void ata_flushed(struct ide_drive *d, int result)
{
    if (result)
        ide_fail(d, IDE_ERROR_ABRT);
    else
        ide_finish(d);
}

static void ata_verify_more(struct ide_drive *d);

static void ata_verified(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result && a->window > 1) {
        a->single = true;
        ata_verify_more(d);
    } else if (result) {
        ata_fail_at(a, a->lba, IDE_ERROR_UNC);
    } else {
        a->lba += a->window;
        a->left -= a->window;
        if (a->left)
            ata_verify_more(d);
        else
            ata_done(a, true);
    }
}

static void ata_verify_more(struct ide_drive *d)
{
    struct ata_disk *a = ata_of(d);
    a->window = a->single ? 1 : EMU_MIN(a->left, ATA_BUF_SECTORS);
    ide_io(d, BLK_READ, a->lba * IDE_SECTOR_BYTES, 0, (uint64_t)a->window * IDE_SECTOR_BYTES, ata_verified);
}

static void ata_trim_next(struct ide_drive *d, int result)
{
    struct ata_disk *a = ata_of(d);
    if (result && result != EMU_ENOTSUP) { /* advice: a disk that cannot give the space back has still done its duty */
        ide_fail(d, IDE_ERROR_ABRT);
        return;
    }
    while (a->range < a->ranges) {
        uint64_t entry = ld64le(d->buf + ATA_RANGE_BYTES * a->range++), lba = entry & UINT64_C(0xFFFFFFFFFFFF), n = entry >> 48;
        if (!n)
            continue;
        if (lba >= a->sectors || n > a->sectors - lba) {
            ide_fail(d, IDE_ERROR_IDNF | IDE_ERROR_ABRT);
            return;
        }
        ide_io(d, BLK_DISCARD, lba * IDE_SECTOR_BYTES, 0, n * IDE_SECTOR_BYTES, ata_trim_next);
        return;
    }
    ide_finish(d);
}

static void ata_trim_filled(struct ide_drive *d) { ata_trim_next(d, 0); }

static void ata_data_set_management(struct ata_disk *a)
{
    struct ide_drive *d = &a->ide;
    uint32_t blocks = d->count | (uint32_t)d->hob_count << 8;
    if (!(d->feature & 1) || !blocks || blocks > ATA_BUF_SECTORS || d->blk->read_only) {
        ide_fail(d, IDE_ERROR_ABRT);
        return;
    }
    a->ranges = blocks * IDE_SECTOR_BYTES / ATA_RANGE_BYTES;
    a->range = 0;
    ide_dma(d, false, 0, blocks * IDE_SECTOR_BYTES, ata_trim_filled);
}

/* ---- IDENTIFY DEVICE ---- */

static void ata_word(uint8_t *p, unsigned word, unsigned v) { st16le(p + 2 * word, (uint16_t)v); }

static void ata_sum_block(uint8_t *p) /* last byte: two's complement of the sum of the others */
{
    unsigned i;
    uint8_t sum = 0;
    for (i = 0; i < IDE_SECTOR_BYTES - 1; i++)
        sum = (uint8_t)(sum + p[i]);
    p[IDE_SECTOR_BYTES - 1] = (uint8_t)(0x100 - sum);
}

static void ata_identify_features(const struct ata_disk *a, uint8_t *p)
{
    unsigned w83 = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10; /* FLUSH EXT, FLUSH, 48-bit */
    ata_word(p, 80, 0xF0);                               /* ATA/ATAPI-4 to -7: Linux believes TRIM from 7 on */
    ata_word(p, 82, 1 << 14 | 1 << 6 | 1 << 5 | 1);      /* NOP, look-ahead, write cache, SMART */
    ata_word(p, 83, w83);
    ata_word(p, 84, 1 << 14 | 1 << 6);                   /* FUA */
    ata_word(p, 85, 1u << 14 | (a->look_ahead ? 1u << 6 : 0) | (a->write_cache ? 1u << 5 : 0) | (a->smart ? 1u : 0));
    ata_word(p, 86, w83 & ~(1u << 14));
    ata_word(p, 87, 1 << 14 | 1 << 6);
    ata_word(p, 88, 0x3F | (unsigned)a->udma << 8);
    ata_word(p, 93, 1 << 14 | 1 << 13 | 1 | (a->ide.unit ? 0x0100 : 0)); /* reset passed; 80-conductor cable seen */
}

static void ata_identify(struct ata_disk *a)
{
    uint8_t *p = a->ide.buf;
    uint32_t small = (uint32_t)EMU_MIN(a->sectors, 0x0FFFFFFFu);
    uint32_t current = (uint32_t)a->now_cylinders * a->now_heads * a->now_per_track;
    memset(p, 0, IDE_SECTOR_BYTES);
    ata_word(p, 0, 0x0040); /* fixed drive */
    ata_word(p, 1, a->cylinders);
    ata_word(p, 3, a->heads);
    ata_word(p, 6, a->sectors_per_track);
    ide_put_string(p + 2 * 10, 20, a->serial);
    ata_word(p, 20, 3);
    ata_word(p, 21, IDE_BUF_BYTES / IDE_SECTOR_BYTES);
    ata_word(p, 22, 4);
    ide_put_string(p + 2 * 23, 8, EMU_VERSION);
    ide_put_string(p + 2 * 27, 40, a->model);
    ata_word(p, 47, 0x8000 | ATA_MAX_MULTIPLE);
    ata_word(p, 48, 1);                            /* 32-bit data port accesses */
    ata_word(p, 49, 1 << 11 | 1 << 9 | 1 << 8);    /* IORDY, LBA, DMA */
    ata_word(p, 50, 1 << 14);
    ata_word(p, 51, 0x200);
    ata_word(p, 52, 0x200);
    ata_word(p, 53, 7); /* words 54-58, 64-70 and 88 are valid */
    ata_word(p, 54, a->now_cylinders);
    ata_word(p, 55, a->now_heads);
    ata_word(p, 56, a->now_per_track);
    st32le(p + 2 * 57, current);
    ata_word(p, 59, a->multiple ? 0x100u | a->multiple : 0);
    st32le(p + 2 * 60, small);
    ata_word(p, 63, 7 | (unsigned)a->mwdma << 8);
    ata_word(p, 64, 3); /* PIO modes 3 and 4 */
    ata_word(p, 65, 120);
    ata_word(p, 66, 120);
    ata_word(p, 67, 120);
    ata_word(p, 68, 120);
    ata_identify_features(a, p);
    st64le(p + 2 * 100, a->sectors);
    ata_word(p, 105, ATA_BUF_SECTORS); /* blocks of one DATA SET MANAGEMENT */
    ata_word(p, 106, 1 << 14);
    ata_word(p, 169, 1); /* TRIM */
    ata_word(p, 217, 1); /* no rotating medium */
    p[510] = 0xA5;
    ata_sum_block(p);
    a->dma = false;
}

static void ata_block_read_end(struct ide_drive *d) { ide_idle(d); }

static void ata_send_block(struct ide_drive *d) { ide_pio_in(d, 0, IDE_SECTOR_BYTES, ata_block_read_end); }

/* ---- SET FEATURES, SMART, parameters ---- */

static bool ata_set_transfer_mode(struct ata_disk *a, uint8_t mode)
{
    switch (mode >> 3) {
    case 0: return mode <= 1;       /* PIO default */
    case 1: return (mode & 7) <= 4; /* PIO with flow control */
    case 4:
        if ((mode & 7) > 2)
            return false;
        a->mwdma = (uint8_t)(1 << (mode & 7));
        a->udma = 0;
        return true;
    case 8:
        if ((mode & 7) > 5)
            return false;
        a->udma = (uint8_t)(1 << (mode & 7));
        a->mwdma = 0;
        return true;
    }
    return false;
}

static void ata_set_features(struct ata_disk *a)
{
    struct ide_drive *d = &a->ide;
    switch (d->feature) {
    case 0x02: a->write_cache = true; break;
    case 0x82:
        a->write_cache = false;
        ide_io(d, BLK_FLUSH, 0, 0, 0, ata_flushed);
        return;
    case 0x55: a->look_ahead = false; break;
    case 0xAA: a->look_ahead = true; break;
    case 0x03:
        if (!ata_set_transfer_mode(a, d->count)) {
            ide_fail(d, IDE_ERROR_ABRT);
            return;
        }
        break;
    case 0x66: /* keep settings over a soft reset: it is what this drive does */
    case 0xCC: break;
    default: ide_fail(d, IDE_ERROR_ABRT); return;
    }
    ide_finish(d);
}

static void ata_smart_data(struct ata_disk *a, bool thresholds)
{
    uint8_t *p = a->ide.buf;
    memset(p, 0, IDE_SECTOR_BYTES);
    st16le(p, 0x10);
    p[2] = 9; /* one attribute: power-on hours */
    if (!thresholds) {
        st16le(p + 3, 0x0003);
        p[5] = p[6] = 100;
        st32le(p + 7, (uint32_t)(emu_now_ns(a->ide.dev.emu) / (3600 * NS_PER_SEC)));
        p[362] = 0x02;           /* off-line collection done */
        st16le(p + 364, 60);
        st16le(p + 368, 0x0003); /* saves attributes */
        p[370] = 0x01;           /* error logging */
    }
    ata_sum_block(p);
    ata_send_block(&a->ide);
}

static void ata_smart(struct ata_disk *a)
{
    struct ide_drive *d = &a->ide;
    bool known = true;
    if (d->lba[1] != 0x4F || d->lba[2] != 0xC2 || (!a->smart && d->feature != 0xD8)) {
        ide_fail(d, IDE_ERROR_ABRT);
        return;
    }
    switch (d->feature) {
    case 0xD0: ata_smart_data(a, false); return;
    case 0xD1: ata_smart_data(a, true); return;
    case 0xD2: break; /* autosave */
    case 0xD4: break; /* off-line test: done */
    case 0xD5:        /* logs: directory, summary error, self-test; all without an entry */
        if ((d->lba[0] == 0 || d->lba[0] == 1 || d->lba[0] == 6) && d->count == 1) {
            memset(d->buf, 0, IDE_SECTOR_BYTES);
            d->buf[0] = 1;
            if (d->lba[0])
                ata_sum_block(d->buf);
            ata_send_block(d);
            return;
        }
        known = false;
        break;
    case 0xD8: a->smart = true; break;
    case 0xD9: a->smart = false; break;
    case 0xDA: break; /* status: the key stays as it was, no threshold exceeded */
    default: known = false;
    }
    if (known)
        ide_finish(d);
    else
        ide_fail(d, IDE_ERROR_ABRT);
}

static void ata_set_translation(struct ata_disk *a, uint16_t heads, uint16_t per_track)
{
    uint64_t cylinders = a->sectors / ((uint32_t)heads * per_track);
    a->now_heads = heads;
    a->now_per_track = per_track;
    a->now_cylinders = (uint16_t)EMU_MIN(cylinders, 65535);
}

static void ata_native_max(struct ata_disk *a, bool ext)
{
    uint64_t last = a->sectors - 1;
    a->ext = ext;
    a->chs = false;
    ata_put_address(a, ext ? last : EMU_MIN(last, 0x0FFFFFFEu));
    ide_finish(&a->ide);
}

static void ata_verify(struct ata_disk *a, bool ext)
{
    if (ata_get_address(a, ext))
        ata_verify_more(&a->ide);
}

/* ---- command dispatch ---- */

static void ata_power_command(struct ata_disk *a, uint8_t command)
{
    switch (command) {
    case ATA_CHECK_POWER:
    case ATA_OLD_CHECK_POWER: a->ide.count = a->standby ? 0x00 : 0xFF; break;
    case ATA_IDLE:
    case ATA_OLD_IDLE:
    case ATA_IDLE_IMMEDIATE:
    case ATA_OLD_IDLE_IMMEDIATE: a->standby = false; break;
    default: a->standby = true; break;
    }
    ide_finish(&a->ide);
}

static void ata_control_command(struct ata_disk *a, uint8_t command)
{
    struct ide_drive *d = &a->ide;
    switch (command) {
    case ATA_DATA_SET_MANAGEMENT: ata_data_set_management(a); return;
    case ATA_IDENTIFY:
        ata_identify(a);
        ata_send_block(d);
        return;
    case ATA_SET_FEATURES: ata_set_features(a); return;
    case ATA_SMART: ata_smart(a); return;
    case ATA_FLUSH:
    case ATA_FLUSH_EXT: ide_io(d, BLK_FLUSH, 0, 0, 0, ata_flushed); return;
    case ATA_SET_MULTIPLE:
        if (d->count > ATA_MAX_MULTIPLE || (d->count & (d->count - 1))) {
            ide_fail(d, IDE_ERROR_ABRT);
            return;
        }
        a->multiple = d->count;
        break;
    case ATA_INIT_PARAMETERS:
        if (!d->count) {
            ide_fail(d, IDE_ERROR_ABRT);
            return;
        }
        ata_set_translation(a, (uint16_t)((d->device & 15) + 1), d->count);
        break;
    case ATA_READ_NATIVE_MAX: ata_native_max(a, false); return;
    case ATA_READ_NATIVE_MAX_EXT: ata_native_max(a, true); return;
    case ATA_OLD_STANDBY_IMMEDIATE:
    case ATA_OLD_IDLE_IMMEDIATE:
    case ATA_OLD_STANDBY:
    case ATA_OLD_IDLE:
    case ATA_OLD_CHECK_POWER:
    case ATA_OLD_SLEEP:
    case ATA_STANDBY_IMMEDIATE:
    case ATA_IDLE_IMMEDIATE:
    case ATA_STANDBY:
    case ATA_IDLE:
    case ATA_CHECK_POWER:
    case ATA_SLEEP: ata_power_command(a, command); return;
    default:
        if ((command & 0xF0) == ATA_RECALIBRATE || (command & 0xF0) == ATA_SEEK)
            break;
        emu_log(d->dev.emu, command == ATA_NOP ? LOG_TRACE : LOG_UNIMP, "ide-hd: command %#x aborted", command);
        ide_fail(d, IDE_ERROR_ABRT); /* NOP too: its contract is to abort */
        return;
    }
    ide_finish(d);
}

static void ata_command(struct ide_drive *d, uint8_t command)
{
    struct ata_disk *a = ata_of(d);
    switch (command) {
    case ATA_READ_SECTORS:
    case ATA_READ_SECTORS_NO_RETRY: ata_read(a, false, 1, false); break;
    case ATA_READ_SECTORS_EXT: ata_read(a, true, 1, false); break;
    case ATA_READ_MULTIPLE: ata_read(a, false, a->multiple, false); break;
    case ATA_READ_MULTIPLE_EXT: ata_read(a, true, a->multiple, false); break;
    case ATA_READ_DMA:
    case ATA_READ_DMA_NO_RETRY: ata_read(a, false, 1, true); break;
    case ATA_READ_DMA_EXT: ata_read(a, true, 1, true); break;
    case ATA_WRITE_SECTORS:
    case ATA_WRITE_SECTORS_NO_RETRY: ata_write(a, false, 1, false, false); break;
    case ATA_WRITE_SECTORS_EXT: ata_write(a, true, 1, false, false); break;
    case ATA_WRITE_MULTIPLE: ata_write(a, false, a->multiple, false, false); break;
    case ATA_WRITE_MULTIPLE_EXT: ata_write(a, true, a->multiple, false, false); break;
    case ATA_WRITE_MULTIPLE_FUA_EXT: ata_write(a, true, a->multiple, false, true); break;
    case ATA_WRITE_DMA:
    case ATA_WRITE_DMA_NO_RETRY: ata_write(a, false, 1, true, false); break;
    case ATA_WRITE_DMA_EXT: ata_write(a, true, 1, true, false); break;
    case ATA_WRITE_DMA_FUA_EXT: ata_write(a, true, 1, true, true); break;
    case ATA_VERIFY:
    case ATA_VERIFY_NO_RETRY: ata_verify(a, false); break;
    case ATA_VERIFY_EXT: ata_verify(a, true); break;
    default: ata_control_command(a, command); return; /* does not spin up a drive in standby */
    }
    a->standby = false;
}

static void ata_signature(struct ide_drive *d)
{
    d->count = d->lba[0] = 1;
    d->lba[1] = d->lba[2] = 0;
    d->status = IDE_DRDY | IDE_DSC;
}

/* ---- device ---- */

static const struct ide_drive_ops ata_ops = { ata_command, ata_signature, false };

static void ata_reset(struct device *dev)
{
    struct ata_disk *a = (struct ata_disk *)dev;
    a->multiple = 0;
    a->mwdma = 0;
    a->udma = 1 << 5;
    a->write_cache = a->look_ahead = a->smart = true;
    a->standby = false;
    ata_set_translation(a, a->heads, a->sectors_per_track);
}

/* Serial numbers count the hard disks of the machine: the first gets 1. */
static unsigned ata_count_before(const struct device *dev)
{
    const struct device *other;
    unsigned n = 1;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls)
            n++;
    return n;
}

static int ata_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ata_disk *a = (struct ata_disk *)dev;
    const char *text;
    uint64_t cylinders;
    int r = ide_attach(&a->ide, &ata_ops, opts, err);
    if (r)
        return r;
    a->sectors = EMU_MIN(a->ide.blk->size_bytes / IDE_SECTOR_BYTES, UINT64_C(1) << 48);
    if (!a->ide.blk->image || !a->sectors) {
        r = err_set(err, EMU_EINVAL, "%s: drive \"%s\" has no medium or an empty one", opts->origin, a->ide.blk->id);
        ide_detach(&a->ide);
        return r;
    }
    text = options_get(opts, "serial");
    if (!text)
        text = a->ide.blk->serial; /* -drive serial= */
    if (text)
        snprintf(a->serial, sizeof a->serial, "%s", text);
    else
        snprintf(a->serial, sizeof a->serial, "EM%05u", ata_count_before(dev));
    text = options_get(opts, "model");
    snprintf(a->model, sizeof a->model, "%s", text ? text : "EMU HARDDISK");
    cylinders = a->sectors / (16 * 63); /* ATA-5 annex B */
    a->heads = 16;
    a->sectors_per_track = 63;
    a->cylinders = (uint16_t)(cylinders > 16383 ? 16383 : cylinders < 1 ? 1 : cylinders);
    ata_reset(dev);
    ata_signature(&a->ide);
    return 0;
}

static void ata_destroy(struct device *dev) { ide_detach(&((struct ata_disk *)dev)->ide); }

static const struct opt_desc ata_options[] = {
    { "drive", "drive", "the drive that holds the data" },
    { "bus", "str", "ide.0 or ide.1" },
    { "unit", "u32", "0 master, 1 slave" },
    { "bootindex", "u32", "place in the firmware's order of boot devices, 0 first" },
    { "serial", "str", "serial number, up to 20 characters" },
    { "model", "str", "model name, up to 40 characters" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class ata_class = {
    .name = "ide-hd", .bus = "ide", .help = "ATA hard disk", .options = ata_options,
    .instance_size = sizeof(struct ata_disk), .create = ata_create, .reset = ata_reset, .destroy = ata_destroy, .user_creatable = true,
};
#undef ATA_MAX_MULTIPLE
#undef ATA_BUF_SECTORS
#undef ATA_RANGE_BYTES
