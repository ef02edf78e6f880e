/* dev/atapi.c - an ATAPI CD-ROM/DVD-ROM drive ("ide-cd").
 *
 * Models     ATA/ATAPI-6 (T13 1410D) §9.8-9.10 for the packet protocol, MMC-3 and SPC-2 for the commands, SFF-8020i for what old
 *            drivers expect. One data track, one session, 2048-byte sectors of a raw image.
 * Contract   Attaches to a channel of ide.c like a disk. The medium is blk's image; blk->tray_open and blk->locked are this
 *            drive's to change; blk calls media_changed after `change` and `eject`.
 * Theory     PACKET asks for twelve bytes (atapi_packet_filled), a command then either ends (atapi_good, atapi_check) or puts its
 *            answer into buf and lets atapi_continue() hand it out: in DRQ blocks of at most the byte count limit, or by DMA.
 *            Reads refill buf from blk each time it runs empty:
 *
 *              atapi_continue --data in buf--> window --> atapi_continue
 *                             --blocks left--> ide_io --> atapi_filled --> atapi_continue
 *                             --nothing left--> atapi_good
 * Invariants 1. at <= filled <= IDE_BUF_BYTES; blocks_left counts blocks not yet asked of blk.
 *            2. A unit attention is reported once, by the first command that may report it.
 * Missing    Audio, multi-session, subchannels, writing: such commands end in "invalid command" or "invalid field".
 */
#include "../machine.h"
#include "dev.h"
#include "ide.h"

#define ATAPI_BLOCK 2048u
#define ATAPI_RAW_BLOCK 2352u
#define ATAPI_PACKET_BYTES 12u
#define ATAPI_CD_MAX_BLOCKS 360000u /* 80 minutes of 75 blocks a second: what is bigger must be a DVD */
#define ATAPI_FRAMES_PER_SECOND 75u
#define ATAPI_LEAD_IN 150u /* MSF addresses begin two seconds before block 0 */

enum { ATAPI_PACKET = 0xA0, ATAPI_IDENTIFY_PACKET = 0xA1, ATAPI_NOP = 0x00, ATAPI_READ_SECTORS = 0x20, ATAPI_IDENTIFY = 0xEC };
enum { ATAPI_REASON_CD = 1, ATAPI_REASON_IO = 2 }; /* interrupt reason: command packet; to the host */
enum atapi_sense { ATAPI_SENSE_NONE = 0, ATAPI_SENSE_NOT_READY = 2, ATAPI_SENSE_MEDIUM = 3, ATAPI_SENSE_ILLEGAL = 5, ATAPI_SENSE_ATTENTION = 6, ATAPI_SENSE_ABORTED = 11 };
enum { /* additional sense code << 8 | qualifier */
    ATAPI_ASC_NONE = 0,
    ATAPI_ASC_READ_ERROR = 0x1100,
    ATAPI_ASC_INVALID_COMMAND = 0x2000,
    ATAPI_ASC_OUT_OF_RANGE = 0x2100,
    ATAPI_ASC_INVALID_FIELD = 0x2400,
    ATAPI_ASC_MEDIUM_CHANGED = 0x2800,
    ATAPI_ASC_SAVING_PARAMETERS = 0x3900,
    ATAPI_ASC_NO_MEDIUM = 0x3A00,
    ATAPI_ASC_REMOVAL_PREVENTED = 0x5302
};
enum mmc_op { /* SPC-2, MMC-3 */
    MMC_TEST_UNIT_READY = 0x00,
    MMC_REQUEST_SENSE = 0x03,
    MMC_INQUIRY = 0x12,
    MMC_MODE_SENSE_6 = 0x1A,
    MMC_START_STOP = 0x1B,
    MMC_PREVENT_ALLOW = 0x1E,
    MMC_READ_CAPACITY = 0x25,
    MMC_READ_10 = 0x28,
    MMC_SEEK_10 = 0x2B,
    MMC_SYNCHRONIZE_CACHE = 0x35,
    MMC_READ_TOC = 0x43,
    MMC_GET_CONFIGURATION = 0x46,
    MMC_GET_EVENT_STATUS = 0x4A,
    MMC_READ_DISC_INFO = 0x51,
    MMC_READ_TRACK_INFO = 0x52,
    MMC_MODE_SENSE_10 = 0x5A,
    MMC_READ_12 = 0xA8,
    MMC_SET_CD_SPEED = 0xBB,
    MMC_MECHANISM_STATUS = 0xBD,
    MMC_READ_CD = 0xBE
};
enum atapi_media_event { ATAPI_MEDIA_NO_CHANGE = 0, ATAPI_MEDIA_EJECT_REQUEST = 1, ATAPI_MEDIA_NEW = 2, ATAPI_MEDIA_REMOVED = 3 };

struct atapi_drive {
    struct ide_drive ide;
    char serial[21], model[41];
    uint8_t packet[ATAPI_PACKET_BYTES];
    uint8_t sense_key;
    uint16_t sense_code;
    bool attention;      /* the medium changed and nobody was told */
    const struct image *medium; /* as the guest was told */
    uint8_t event;       /* enum atapi_media_event for GET EVENT STATUS NOTIFICATION */
    bool dma;
    uint8_t mwdma, udma;
    uint32_t limit;      /* byte count limit of the PACKET command */
    uint32_t at, filled; /* answer: next byte in buf, end */
    uint32_t lba;        /* next block to read */
    uint32_t blocks_left;
    bool raw;            /* READ CD of whole 2352-byte sectors */
};

static struct atapi_drive *atapi_of(struct ide_drive *d) { return (struct atapi_drive *)d; }

/* ---- medium ---- */

static bool atapi_ready(const struct atapi_drive *a) { return a->ide.blk->image && !a->ide.blk->tray_open; }

static uint32_t atapi_blocks(const struct atapi_drive *a)
{
    uint64_t n = a->ide.blk->size_bytes / ATAPI_BLOCK;
    return n > 0xFFFFFFFFu ? 0xFFFFFFFFu : (uint32_t)n;
}

static bool atapi_is_dvd(const struct atapi_drive *a) { return atapi_blocks(a) > ATAPI_CD_MAX_BLOCKS; }

static void atapi_media_changed(void *opaque)
{
    struct atapi_drive *a = opaque;
    a->attention = atapi_ready(a);
    a->event = a->attention ? ATAPI_MEDIA_NEW : ATAPI_MEDIA_REMOVED;
}

/* block.c: another medium, or the same and a locked tray: the host's hand on the eject button. */
static void atapi_host_changed(void *opaque)
{
    struct atapi_drive *a = opaque;
    struct blk *b = a->ide.blk;
    if (b->locked && b->image == a->medium) {
        if (a->event == ATAPI_MEDIA_NO_CHANGE)
            a->event = ATAPI_MEDIA_EJECT_REQUEST;
        return;
    }
    a->medium = b->image;
    atapi_media_changed(a);
}

/* ---- ends of a command ---- */

static void atapi_good(struct atapi_drive *a)
{
    a->ide.count = ATAPI_REASON_CD | ATAPI_REASON_IO;
    ide_finish(&a->ide);
}

static void atapi_check(struct atapi_drive *a, enum atapi_sense key, unsigned code)
{
    a->sense_key = (uint8_t)key;
    a->sense_code = (uint16_t)code;
    a->ide.count = ATAPI_REASON_CD | ATAPI_REASON_IO;
    ide_fail(&a->ide, (uint8_t)(key << 4 | (key == ATAPI_SENSE_ILLEGAL || key == ATAPI_SENSE_ABORTED ? IDE_ERROR_ABRT : 0)));
}

static void atapi_bad_field(struct atapi_drive *a) { atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_INVALID_FIELD); }

/* ---- data to the host ---- */

static void atapi_continue(struct ide_drive *d);

/* Sector header and mode byte of a raw sector (ECMA-130 §14, §21); its error correction bytes are left zero. */
static void atapi_make_raw(uint8_t *to, const uint8_t *from, uint32_t lba)
{
    uint32_t frame = lba + ATAPI_LEAD_IN, msf[3];
    unsigned i;
    memmove(to + 16, from, ATAPI_BLOCK);
    memset(to + 16 + ATAPI_BLOCK, 0, ATAPI_RAW_BLOCK - 16 - ATAPI_BLOCK);
    memset(to, 0xFF, 12);
    to[0] = to[11] = 0;
    msf[0] = frame / (60 * ATAPI_FRAMES_PER_SECOND);
    msf[1] = frame / ATAPI_FRAMES_PER_SECOND % 60;
    msf[2] = frame % ATAPI_FRAMES_PER_SECOND;
    for (i = 0; i < 3; i++)
        to[12 + i] = (uint8_t)((msf[i] / 10 % 10) << 4 | msf[i] % 10);
    to[15] = 1;
}

static void atapi_filled(struct ide_drive *d, int result)
{
    struct atapi_drive *a = atapi_of(d);
    uint32_t n = (uint32_t)(d->request.size / ATAPI_BLOCK);
    if (result) {
        atapi_check(a, ATAPI_SENSE_MEDIUM, ATAPI_ASC_READ_ERROR);
        return;
    }
    a->at = 0;
    if (a->raw) { /* spread from the buffer's end to its beginning: the target never overtakes the source */
        uint32_t i, from = IDE_BUF_BYTES - n * ATAPI_BLOCK;
        for (i = 0; i < n; i++)
            atapi_make_raw(d->buf + i * ATAPI_RAW_BLOCK, d->buf + from + i * ATAPI_BLOCK, a->lba + i);
        a->filled = n * ATAPI_RAW_BLOCK;
    } else {
        a->filled = n * ATAPI_BLOCK;
    }
    a->lba += n;
    a->blocks_left -= n;
    atapi_continue(d);
}

static void atapi_fill(struct atapi_drive *a)
{
    uint32_t most = a->raw ? IDE_BUF_BYTES / ATAPI_RAW_BLOCK / 2 : IDE_BUF_BYTES / ATAPI_BLOCK;
    uint32_t n = EMU_MIN(a->blocks_left, most);
    uint32_t where = a->raw ? IDE_BUF_BYTES - n * ATAPI_BLOCK : 0;
    if (!atapi_ready(a)) { /* taken out between two parts */
        atapi_check(a, ATAPI_SENSE_NOT_READY, ATAPI_ASC_NO_MEDIUM);
        return;
    }
    ide_io(&a->ide, BLK_READ, (uint64_t)a->lba * ATAPI_BLOCK, where, (uint64_t)n * ATAPI_BLOCK, atapi_filled);
}

static void atapi_continue(struct ide_drive *d)
{
    struct atapi_drive *a = atapi_of(d);
    uint32_t n = a->filled - a->at, start = a->at;
    if (!n && a->blocks_left) {
        atapi_fill(a);
        return;
    }
    if (!n) {
        atapi_good(a);
        return;
    }
    d->count = ATAPI_REASON_IO;
    if (a->dma) {
        a->at += n;
        ide_dma(d, true, start, n, atapi_continue);
        return;
    }
    n = EMU_MIN(n, a->limit);
    a->at += n;
    d->lba[1] = (uint8_t)n;
    d->lba[2] = (uint8_t)(n >> 8);
    ide_pio_in(d, start, n, atapi_continue);
}

/* Hands out the first size bytes of buf, but not more than the host allocated. */
static void atapi_reply(struct atapi_drive *a, uint32_t size, uint32_t allocated)
{
    a->at = 0;
    a->filled = EMU_MIN(size, allocated);
    a->blocks_left = 0;
    atapi_continue(&a->ide);
}

static uint8_t *atapi_answer(struct atapi_drive *a, uint32_t size) { return memset(a->ide.buf, 0, size); }

/* ---- commands ---- */

static void atapi_request_sense(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 18);
    if (a->attention && a->sense_key == ATAPI_SENSE_NONE) {
        a->attention = false;
        a->sense_key = ATAPI_SENSE_ATTENTION;
        a->sense_code = ATAPI_ASC_MEDIUM_CHANGED;
    }
    p[0] = 0x70; /* current error, fixed format */
    p[2] = a->sense_key;
    p[7] = 10;
    p[12] = (uint8_t)(a->sense_code >> 8);
    p[13] = (uint8_t)a->sense_code;
    a->sense_key = ATAPI_SENSE_NONE;
    a->sense_code = ATAPI_ASC_NONE;
    atapi_reply(a, 18, a->packet[4]);
}

static void atapi_put_text(uint8_t *p, unsigned size, const char *text)
{
    unsigned i;
    for (i = 0; i < size; i++)
        p[i] = *text ? (uint8_t)*text++ : ' ';
}

static void atapi_inquiry(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 36);
    if (a->packet[1] & 3) { /* vital product data is not kept */
        atapi_bad_field(a);
        return;
    }
    p[0] = 0x05; /* CD/DVD device */
    p[1] = 0x80; /* removable */
    p[3] = 0x21; /* ATAPI-2, response format 1 */
    p[4] = 31;
    atapi_put_text(p + 8, 8, "EMU");
    atapi_put_text(p + 16, 16, "EMU DVD-ROM");
    atapi_put_text(p + 32, 4, EMU_VERSION);
    atapi_reply(a, 36, ld16be(a->packet + 3));
}

static void atapi_read(struct atapi_drive *a, uint32_t lba, uint32_t n, bool raw)
{
    uint32_t total = atapi_blocks(a);
    if (lba >= total || n > total - lba) {
        if (n || lba > total) {
            atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_OUT_OF_RANGE);
            return;
        }
    }
    a->lba = lba;
    a->blocks_left = n;
    a->raw = raw;
    a->at = a->filled = 0;
    atapi_continue(&a->ide);
}

static void atapi_read_cd(struct atapi_drive *a)
{
    uint32_t n = (uint32_t)a->packet[6] << 16 | ld16be(a->packet + 7);
    switch (a->packet[9] & 0xF8) {
    case 0x00: atapi_good(a); break;
    case 0x10: atapi_read(a, ld32be(a->packet + 2), n, false); break; /* user data */
    case 0xF8: atapi_read(a, ld32be(a->packet + 2), n, true); break;  /* everything */
    default: atapi_bad_field(a); break;
    }
}

static void atapi_start_stop(struct atapi_drive *a)
{
    bool start = (a->packet[4] & 1) != 0, load_eject = (a->packet[4] & 2) != 0;
    struct blk *b = a->ide.blk;
    if (load_eject && !start) {
        if (b->locked && !b->tray_open) {
            atapi_check(a, b->image ? ATAPI_SENSE_ILLEGAL : ATAPI_SENSE_NOT_READY, ATAPI_ASC_REMOVAL_PREVENTED);
            return;
        }
        b->tray_open = true;
        a->attention = false;
    } else if (load_eject && b->tray_open) {
        b->tray_open = false;
        atapi_media_changed(a);
    }
    atapi_good(a);
}

static void atapi_capacity(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 8);
    uint32_t total = atapi_blocks(a);
    st32be(p, total ? total - 1 : 0);
    st32be(p + 4, ATAPI_BLOCK);
    atapi_reply(a, 8, 8);
}

/* An address as block number or as minute, second, frame. */
static void atapi_put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (msf) {
        uint32_t f = lba + ATAPI_LEAD_IN;
        p[0] = 0;
        p[1] = (uint8_t)(f / (60 * ATAPI_FRAMES_PER_SECOND));
        p[2] = (uint8_t)(f / ATAPI_FRAMES_PER_SECOND % 60);
        p[3] = (uint8_t)(f % ATAPI_FRAMES_PER_SECOND);
    } else {
        st32be(p, lba);
    }
}

static uint8_t *atapi_toc_track(uint8_t *p, uint8_t track, uint32_t lba, bool msf)
{
    p[1] = 0x14; /* ADR 1, data track */
    p[2] = track;
    atapi_put_address(p + 4, lba, msf);
    return p + 8;
}

/* Raw TOC entry (MMC-3 table 332): point, and its address; the running time fields are zero. */
static uint8_t *atapi_toc_point(uint8_t *p, uint8_t point, uint8_t minute, uint8_t second, uint8_t frame)
{
    p[0] = 1;    /* session */
    p[1] = 0x14;
    p[3] = point;
    p[8] = minute;
    p[9] = second;
    p[10] = frame;
    return p + 11;
}

static void atapi_read_toc(struct atapi_drive *a)
{
    bool msf = (a->packet[1] & 2) != 0;
    unsigned format = a->packet[2] & 15, start = a->packet[6];
    uint8_t *base = atapi_answer(a, 64), *p = base + 4, out[4];
    if (!format)
        format = a->packet[9] >> 6; /* where SFF-8020i had it */
    base[2] = base[3] = 1; /* first and last track or session */
    switch (format) {
    case 0:
        if (start > 1 && start != 0xAA) {
            atapi_bad_field(a);
            return;
        }
        if (start <= 1)
            p = atapi_toc_track(p, 1, 0, msf);
        p = atapi_toc_track(p, 0xAA, atapi_blocks(a), msf);
        break;
    case 1: p = atapi_toc_track(p, 1, 0, msf); break;
    case 2:
        atapi_put_address(out, atapi_blocks(a), true);
        p = atapi_toc_point(p, 0xA0, 1, 0, 0); /* first track; disc type CD-ROM */
        p = atapi_toc_point(p, 0xA1, 1, 0, 0); /* last track */
        p = atapi_toc_point(p, 0xA2, out[1], out[2], out[3]);
        p = atapi_toc_point(p, 1, 0, ATAPI_LEAD_IN / ATAPI_FRAMES_PER_SECOND, 0);
        break;
    default: atapi_bad_field(a); return;
    }
    st16be(base, (uint16_t)(p - base - 2));
    atapi_reply(a, (uint32_t)(p - base), ld16be(a->packet + 7));
}

static void atapi_get_configuration(struct atapi_drive *a)
{
    uint8_t *base = atapi_answer(a, 64), *p = base + 8;
    unsigned first = ld16be(a->packet + 2), type = a->packet[1] & 3, profile = 0;
    if (type == 3) {
        atapi_bad_field(a);
        return;
    }
    if (atapi_ready(a))
        profile = atapi_is_dvd(a) ? 0x0010 : 0x0008; /* DVD-ROM, CD-ROM */
    st16be(base + 6, (uint16_t)profile);
    if (first == 0) { /* profile list */
        p[2] = 0x03;
        p[3] = 8;
        st16be(p + 4, 0x0010);
        p[6] = profile == 0x0010;
        st16be(p + 8, 0x0008);
        p[10] = profile == 0x0008;
        p += 12;
    }
    if (first == 1 || (type != 2 && first < 1)) { /* core: ATAPI */
        p[1] = 0x01;
        p[2] = 0x0B;
        p[3] = 8;
        st32be(p + 4, 2);
        p[8] = 1;
        p += 12;
    }
    if (first == 3 || (type != 2 && first < 3)) { /* removable medium: tray, eject, lock */
        p[1] = 0x03;
        p[2] = 0x0B;
        p[3] = 4;
        p[4] = 0x29;
        p += 8;
    }
    st32be(base, (uint32_t)(p - base - 4));
    atapi_reply(a, (uint32_t)(p - base), ld16be(a->packet + 7));
}

static void atapi_get_event(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 8);
    uint32_t size = 4;
    if (!(a->packet[1] & 1)) { /* asynchronous operation is not supported */
        atapi_bad_field(a);
        return;
    }
    p[3] = 0x10; /* supported: media */
    if (a->packet[4] & 0x10) {
        p[2] = 0x04;
        p[4] = a->event;
        p[5] = (uint8_t)((a->ide.blk->tray_open ? 1 : 0) | (atapi_ready(a) ? 2 : 0));
        a->event = ATAPI_MEDIA_NO_CHANGE;
        size = 8;
    } else {
        p[2] = 0x80; /* no event of the wanted classes */
    }
    st16be(p, (uint16_t)(size - 2));
    atapi_reply(a, size, ld16be(a->packet + 7));
}

static void atapi_disc_info(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 34);
    st16be(p, 32);
    p[2] = 0x0E;                    /* complete, last session complete, not erasable */
    p[3] = p[4] = p[5] = p[6] = 1;  /* tracks and sessions */
    p[7] = 0x20;                    /* unrestricted use */
    memset(p + 16, 0xFF, 8);        /* no lead-in or lead-out to be written */
    atapi_reply(a, 34, ld16be(a->packet + 7));
}

static void atapi_track_info(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 36);
    st16be(p, 34);
    p[2] = p[3] = 1; /* track, session */
    p[5] = 0x04;     /* data track */
    p[6] = 0x01;     /* mode 1 */
    st32be(p + 24, atapi_blocks(a));
    atapi_reply(a, 36, ld16be(a->packet + 7));
}

static void atapi_mechanism_status(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, 8);
    p[1] = a->ide.blk->tray_open ? 0x10 : 0;
    p[5] = 1; /* one slot */
    atapi_reply(a, 8, ld16be(a->packet + 8));
}

/* Pages 01h (error recovery), 0Eh (audio control), 2Ah (capabilities; SFF-8020i, MMC-2 §5.5.10). */
static uint8_t *atapi_mode_page(const struct atapi_drive *a, uint8_t *p, unsigned page)
{
    const uint16_t speed = 706; /* kB/s: 4x */
    switch (page) {
    case 0x01:
        p[0] = 0x01;
        p[1] = 6;
        p[3] = 5; /* retries */
        return p + 8;
    case 0x0E:
        p[0] = 0x0E;
        p[1] = 14;
        p[2] = 0x04;
        return p + 16;
    case 0x2A:
        p[0] = 0x2A;
        p[1] = 18;
        p[2] = 0x0B; /* reads CD-R, CD-RW, DVD-ROM */
        p[4] = 0x70; /* multi-session, mode 2 forms 1 and 2 */
        p[6] = (uint8_t)(0x29 | (a->ide.blk->locked ? 2 : 0)); /* tray, eject, can lock */
        st16be(p + 8, speed);
        st16be(p + 10, 2);
        st16be(p + 12, IDE_BUF_BYTES / 1024);
        st16be(p + 14, speed);
        return p + 20;
    }
    return NULL;
}

static void atapi_mode_sense(struct atapi_drive *a, bool ten)
{
    static const uint8_t pages[] = { 0x01, 0x0E, 0x2A };
    unsigned page = a->packet[2] & 0x3F, header = ten ? 8 : 4;
    uint8_t *base = atapi_answer(a, 128), *p = base + header, *next;
    unsigned i;
    uint8_t medium = !atapi_ready(a) ? 0x70 : 0x01; /* none; 120 mm data disc */
    if (a->packet[2] >> 6 == 3) {
        atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_SAVING_PARAMETERS);
        return;
    }
    for (i = 0; i < sizeof pages; i++)
        if (page == pages[i] || page == 0x3F) {
            next = atapi_mode_page(a, p, pages[i]);
            if (a->packet[2] >> 6 == 1) /* changeable values: none */
                memset(p + 2, 0, (size_t)(next - p - 2));
            p = next;
        }
    if (p == base + header) {
        atapi_bad_field(a);
        return;
    }
    if (ten) {
        st16be(base, (uint16_t)(p - base - 2));
        base[2] = medium;
        atapi_reply(a, (uint32_t)(p - base), ld16be(a->packet + 7));
    } else {
        base[0] = (uint8_t)(p - base - 1);
        base[1] = medium;
        atapi_reply(a, (uint32_t)(p - base), a->packet[4]);
    }
}

/* ---- packet dispatch ---- */

/* MMC-3 §4.1.6: these report no unit attention. */
static bool atapi_ignores_attention(uint8_t op)
{
    return op == MMC_INQUIRY || op == MMC_REQUEST_SENSE || op == MMC_GET_EVENT_STATUS || op == MMC_GET_CONFIGURATION;
}

static bool atapi_needs_medium(uint8_t op)
{
    switch (op) {
    case MMC_TEST_UNIT_READY:
    case MMC_READ_CAPACITY:
    case MMC_READ_10:
    case MMC_READ_12:
    case MMC_READ_CD:
    case MMC_SEEK_10:
    case MMC_READ_TOC:
    case MMC_READ_DISC_INFO:
    case MMC_READ_TRACK_INFO: return true;
    }
    return false;
}

static void atapi_execute(struct atapi_drive *a)
{
    const uint8_t *c = a->packet;
    emu_log(a->ide.dev.emu, LOG_TRACE, "ide-cd: packet %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x limit %u%s", c[0], c[1], c[2], c[3], c[4],
            c[5], c[6], c[7], c[8], c[9], (unsigned)a->limit, a->dma ? " dma" : "");
    if (a->attention && !atapi_ignores_attention(c[0])) { /* invariant 2 */
        a->attention = false;
        atapi_check(a, ATAPI_SENSE_ATTENTION, ATAPI_ASC_MEDIUM_CHANGED);
        return;
    }
    if (c[0] != MMC_REQUEST_SENSE) {
        a->sense_key = ATAPI_SENSE_NONE;
        a->sense_code = ATAPI_ASC_NONE;
    }
    if (atapi_needs_medium(c[0]) && !atapi_ready(a)) {
        atapi_check(a, ATAPI_SENSE_NOT_READY, ATAPI_ASC_NO_MEDIUM);
        return;
    }
    switch (c[0]) {
    case MMC_TEST_UNIT_READY:
    case MMC_SYNCHRONIZE_CACHE:
    case MMC_SET_CD_SPEED: atapi_good(a); break;
    case MMC_REQUEST_SENSE: atapi_request_sense(a); break;
    case MMC_INQUIRY: atapi_inquiry(a); break;
    case MMC_MODE_SENSE_6: atapi_mode_sense(a, false); break;
    case MMC_MODE_SENSE_10: atapi_mode_sense(a, true); break;
    case MMC_START_STOP: atapi_start_stop(a); break;
    case MMC_PREVENT_ALLOW:
        a->ide.blk->locked = (c[4] & 1) != 0;
        atapi_good(a);
        break;
    case MMC_READ_CAPACITY: atapi_capacity(a); break;
    case MMC_READ_10: atapi_read(a, ld32be(c + 2), ld16be(c + 7), false); break;
    case MMC_READ_12: atapi_read(a, ld32be(c + 2), ld32be(c + 6), false); break;
    case MMC_READ_CD: atapi_read_cd(a); break;
    case MMC_SEEK_10:
        if (ld32be(c + 2) >= atapi_blocks(a))
            atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_OUT_OF_RANGE);
        else
            atapi_good(a);
        break;
    case MMC_READ_TOC: atapi_read_toc(a); break;
    case MMC_GET_CONFIGURATION: atapi_get_configuration(a); break;
    case MMC_GET_EVENT_STATUS: atapi_get_event(a); break;
    case MMC_READ_DISC_INFO: atapi_disc_info(a); break;
    case MMC_READ_TRACK_INFO: atapi_track_info(a); break;
    case MMC_MECHANISM_STATUS: atapi_mechanism_status(a); break;
    default: atapi_check(a, ATAPI_SENSE_ILLEGAL, ATAPI_ASC_INVALID_COMMAND); break;
    }
}

static void atapi_packet_filled(struct ide_drive *d)
{
    struct atapi_drive *a = atapi_of(d);
    memcpy(a->packet, d->buf, sizeof a->packet);
    d->status = IDE_DRDY | IDE_DSC;
    atapi_execute(a);
}

static void atapi_packet(struct atapi_drive *a)
{
    struct ide_drive *d = &a->ide;
    a->dma = (d->feature & 1) != 0;
    a->limit = d->lba[1] | (uint32_t)d->lba[2] << 8;
    if (!a->limit || a->limit == 0xFFFF)
        a->limit = 0xFFFE; /* 0 is forbidden for data by ATA-4 and later; older drivers mean "as much as you like" */
    if (a->limit > 1)
        a->limit &= ~UINT32_C(1); /* only the last part may be odd */
    d->count = ATAPI_REASON_CD;
    ide_pio_out(d, 0, ATAPI_PACKET_BYTES, false, atapi_packet_filled);
}

/* ---- ATA commands of a packet device ---- */

static void atapi_word(uint8_t *p, unsigned word, unsigned v) { st16le(p + 2 * word, (uint16_t)v); }

static void atapi_identify_taken(struct ide_drive *d) { ide_idle(d); }

static void atapi_identify(struct atapi_drive *a)
{
    uint8_t *p = atapi_answer(a, IDE_SECTOR_BYTES);
    atapi_word(p, 0, 0x8000 | 5 << 8 | 0x80 | 2 << 5); /* ATAPI, CD-ROM, removable, DRQ within 50 us, 12-byte packets */
    ide_put_string(p + 2 * 10, 20, a->serial);
    atapi_word(p, 20, 3);
    atapi_word(p, 21, IDE_BUF_BYTES / IDE_SECTOR_BYTES);
    ide_put_string(p + 2 * 23, 8, EMU_VERSION);
    ide_put_string(p + 2 * 27, 40, a->model);
    atapi_word(p, 48, 1);
    atapi_word(p, 49, 1 << 11 | 1 << 9 | 1 << 8); /* IORDY, LBA, DMA */
    atapi_word(p, 53, 7);
    atapi_word(p, 63, 7 | (unsigned)a->mwdma << 8);
    atapi_word(p, 64, 3);
    atapi_word(p, 65, 120);
    atapi_word(p, 66, 120);
    atapi_word(p, 67, 120);
    atapi_word(p, 68, 120);
    atapi_word(p, 71, 30);
    atapi_word(p, 72, 30);
    atapi_word(p, 80, 0x1E);               /* ATA-1 to ATA/ATAPI-4 */
    atapi_word(p, 82, 1 << 14 | 1 << 9 | 1 << 4); /* NOP, DEVICE RESET, PACKET */
    atapi_word(p, 83, 1 << 14);
    atapi_word(p, 85, 1 << 14 | 1 << 9 | 1 << 4);
    atapi_word(p, 87, 1 << 14);
    atapi_word(p, 88, 0x3F | (unsigned)a->udma << 8);
    atapi_word(p, 93, 1 << 14 | 1 << 13 | 1);
    ide_pio_in(&a->ide, 0, IDE_SECTOR_BYTES, atapi_identify_taken);
}

static void atapi_signature(struct ide_drive *d)
{
    d->count = d->lba[0] = 1;
    d->lba[1] = 0x14;
    d->lba[2] = 0xEB;
    d->status = 0; /* DRDY comes with the first command (ATA/ATAPI-6 §9.12) */
}

static void atapi_set_features(struct atapi_drive *a)
{
    struct ide_drive *d = &a->ide;
    unsigned mode = d->count & 7;
    if (d->feature == 0x03 && (d->count <= 1 || (d->count >> 3 == 1 && mode <= 4))) {
        ide_finish(d);
    } else if (d->feature == 0x03 && d->count >> 3 == 4 && mode <= 2) {
        a->mwdma = (uint8_t)(1 << mode);
        a->udma = 0;
        ide_finish(d);
    } else if (d->feature == 0x03 && d->count >> 3 == 8 && mode <= 5) {
        a->udma = (uint8_t)(1 << mode);
        a->mwdma = 0;
        ide_finish(d);
    } else if (d->feature == 0x66 || d->feature == 0xCC) {
        ide_finish(d);
    } else {
        ide_fail(d, IDE_ERROR_ABRT);
    }
}

static void atapi_command(struct ide_drive *d, uint8_t command)
{
    struct atapi_drive *a = atapi_of(d);
    switch (command) {
    case ATAPI_PACKET: atapi_packet(a); break;
    case ATAPI_IDENTIFY_PACKET: atapi_identify(a); break;
    case ATAPI_READ_SECTORS:
    case ATAPI_IDENTIFY: /* aborted, and the signature tells why (ATA/ATAPI-6 §8.15.5.2) */
        atapi_signature(d);
        ide_fail(d, IDE_ERROR_ABRT);
        break;
    case 0xEF: atapi_set_features(a); break;
    case 0xE5: /* CHECK POWER MODE: active */
        d->count = 0xFF;
        ide_finish(d);
        break;
    case 0xE0: /* STANDBY, IDLE, SLEEP */
    case 0xE1:
    case 0xE2:
    case 0xE3:
    case 0xE6: ide_finish(d); break;
    default: ide_fail(d, IDE_ERROR_ABRT); break;
    }
}

/* ---- device ---- */

static const struct ide_drive_ops atapi_ops = { atapi_command, atapi_signature, true };

static void atapi_reset(struct device *dev)
{
    struct atapi_drive *a = (struct atapi_drive *)dev;
    a->sense_key = ATAPI_SENSE_NONE;
    a->sense_code = ATAPI_ASC_NONE;
    a->attention = false;
    a->event = ATAPI_MEDIA_NO_CHANGE;
    a->mwdma = 0;
    a->udma = 1 << 5;
    a->at = a->filled = a->blocks_left = 0;
    a->ide.blk->locked = false;
}

static int atapi_create(struct device *dev, struct options *opts, struct err *err)
{
    struct atapi_drive *a = (struct atapi_drive *)dev;
    const struct device *other;
    const char *text;
    unsigned n = 1;
    int r = ide_attach(&a->ide, &atapi_ops, opts, err);
    if (r)
        return r;
    for (other = dev->emu->devices; other; other = other->next)
        if (other != dev && other->cls == dev->cls)
            n++;
    text = options_get(opts, "serial");
    if (!text)
        text = a->ide.blk->serial; /* -drive serial= */
    if (text)
        snprintf(a->serial, sizeof a->serial, "%s", text);
    else
        snprintf(a->serial, sizeof a->serial, "EC%05u", n);
    text = options_get(opts, "model");
    snprintf(a->model, sizeof a->model, "%s", text ? text : "EMU DVD-ROM");
    a->ide.blk->removable = true;
    a->ide.blk->read_only = a->ide.blk->want_read_only = true; /* whoever made the drive */
    a->medium = a->ide.blk->image;
    a->ide.blk->media_changed = atapi_host_changed;
    a->ide.blk->opaque = a;
    atapi_reset(dev);
    atapi_signature(&a->ide);
    return 0;
}

static void atapi_destroy(struct device *dev) { ide_detach(&((struct atapi_drive *)dev)->ide); }

static const struct opt_desc atapi_options[] = {
    { "drive", "drive", "the drive that holds the medium; empty without" },
    { "bus", "str", "ide.0 or ide.1" },
    { "unit", "u32", "0 master, 1 slave" },
    { "bootindex", "u32", "place in the firmware's order of boot devices, 0 first" },
    { "serial", "str", "serial number, up to 20 characters" },
    { "model", "str", "model name, up to 40 characters" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class atapi_class = {
    .name = "ide-cd", .bus = "ide", .help = "ATAPI CD-ROM and DVD-ROM drive", .options = atapi_options,
    .instance_size = sizeof(struct atapi_drive), .create = atapi_create, .reset = atapi_reset, .destroy = atapi_destroy, .user_creatable = true,
};
#undef ATAPI_BLOCK
#undef ATAPI_RAW_BLOCK
#undef ATAPI_PACKET_BYTES
#undef ATAPI_CD_MAX_BLOCKS
#undef ATAPI_FRAMES_PER_SECOND
#undef ATAPI_LEAD_IN
