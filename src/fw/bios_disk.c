/* fw/bios_disk.c - INT 13h and the way to the first boot sector.
 *
 * Models     INT 13h of the AT BIOS, Enhanced Disk Drive 3.0 (T13 1226), El Torito 1.0, BIOS Boot Specification 1.01 in spirit.
 * Contract   bios.c calls fw_disk_init() and fw_boot_list() at power-on and fw_int13(), fw_int18(), fw_int19(), fw_int0e() for the stubs.
 * Theory     INT 13h never touches a controller: it reads and writes the drive's struct blk, so any drive that the board has can boot.
 *            Drive numbers: floppies 00h.., hard disks 80h.. in the order of their index, CDs E0h... While El Torito
 *            emulates a floppy or a hard disk, that one is the first and the others move up by one.
 * Invariants 1. A transfer is checked against the size of the medium before a byte moves.
 *            2. INT 13h reports logical geometry by LBA-assisted translation (63 sectors, 16 to 255 heads), as other PC BIOSes do, so
 *               that an installed disk finds its numbers unchanged.
 * Missing    Booting by network (later); formatting of hard disks (accepted, does nothing); multi-image El Torito catalogs: the default entry.
 */
#include "../machine.h"
#include "../dev/dev.h"
#include "fw.h"

/* Status codes in AH (Ralf Brown's table 00234). */
enum { DISK_OK = 0, DISK_BAD_COMMAND = 0x01, DISK_WRITE_PROTECTED = 0x03, DISK_NOT_FOUND = 0x04, DISK_BOUNDARY = 0x09, DISK_CONTROLLER = 0x20,
       DISK_NO_MEDIA = 0x31, DISK_TIMEOUT = 0x80, DISK_LOCKED = 0xB1, DISK_NOT_LOCKED = 0xB0, DISK_NOT_REMOVABLE = 0xB2 };

EMU_PRIV void fw_disk_translate(uint64_t sectors, unsigned phys_heads, unsigned phys_sectors, uint16_t *cylinders, uint16_t *heads, uint16_t *spt)
{
    uint64_t tracks = sectors / 63, cyl;
    unsigned h;
    if (sectors <= (uint64_t)1024 * phys_heads * phys_sectors && phys_heads <= 16) {
        *heads = (uint16_t)phys_heads;
        *spt = (uint16_t)phys_sectors;
        cyl = sectors / ((uint64_t)phys_heads * phys_sectors);
    } else {
        h = (unsigned)EMU_MIN(tracks / 1024, (uint64_t)255);
        h = h > 128 ? 255 : h > 64 ? 128 : h > 32 ? 64 : h > 16 ? 32 : 16;
        *heads = (uint16_t)h;
        *spt = 63;
        cyl = tracks / h;
    }
    *cylinders = (uint16_t)EMU_MAX(EMU_MIN(cyl, (uint64_t)1024), (uint64_t)1);
}

/* ================= which drives there are ================= */

static const struct fw_floppy_kind {
    uint32_t kib;
    uint8_t cylinders, heads, sectors, cmos_type, rate; /* rate: BDA 490h media state */
} fw_floppy_kinds[] = {
    { 160, 40, 1, 8, 1, 0x93 },  { 180, 40, 1, 9, 1, 0x93 },  { 320, 40, 2, 8, 1, 0x93 },  { 360, 40, 2, 9, 1, 0x93 },  { 720, 80, 2, 9, 3, 0x97 },
    { 1200, 80, 2, 15, 2, 0x15 }, { 1440, 80, 2, 18, 4, 0x17 }, { 1680, 80, 2, 21, 4, 0x17 }, { 1722, 82, 2, 21, 4, 0x17 }, { 2880, 80, 2, 36, 5, 0xD7 },
};

static const struct fw_floppy_kind *fw_floppy_kind(uint64_t bytes)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(fw_floppy_kinds); i++)
        if (bytes == fw_floppy_kinds[i].kib * KIB)
            return &fw_floppy_kinds[i];
    for (i = 3; i < EMU_ARRAY_LEN(fw_floppy_kinds); i++) /* a cut image: the common drive that is large enough */
        if (bytes <= fw_floppy_kinds[i].kib * KIB && fw_floppy_kinds[i].kib >= 1440)
            return &fw_floppy_kinds[i];
    return &fw_floppy_kinds[9];
}

static void fw_floppy_geometry(struct fw_drive *d)
{
    const struct fw_floppy_kind *k = fw_floppy_kind(d->blk->image ? d->blk->size_bytes : 1440 * KIB);
    d->cylinders = k->cylinders;
    d->heads = k->heads;
    d->sectors = k->sectors;
}

static uint64_t fw_drive_sectors(const struct fw_drive *d) { return d->blk->image ? d->blk->size_bytes / 512 : 0; }

static const char *fw_blk_option(struct blk *b, const char *key, const char *otherwise)
{
    const char *v = b->opts ? options_get(b->opts, key) : NULL;
    return v ? v : otherwise;
}

/* The place of a drive among its kind: where its controller has it, else index=, or bus and unit as IDE counts them. */
static unsigned fw_blk_index(struct blk *b, unsigned otherwise)
{
    uint64_t index = otherwise, bus = 0, unit = 0;
    const char *v = fw_blk_option(b, "index", NULL);
    if (b->ide_place)
        return b->ide_place - 1u;
    if (v && parse_u64(v, 0, 255, &index) == 0)
        return (unsigned)index;
    if (!v && b->id && strlen(b->id) == 8 && !memcmp(b->id, "ide", 3)) /* "ide1-cd0", as the board names them */
        return (unsigned)((b->id[3] - '0') * 2 + (b->id[7] - '0')) & 3u;
    v = fw_blk_option(b, "unit", NULL);
    if (v && parse_u64(v, 0, 255, &unit) == 0) {
        v = fw_blk_option(b, "bus", "0");
        (void)parse_u64(v, 0, 255, &bus);
        return (unsigned)(bus * 2 + unit);
    }
    return otherwise;
}

static int fw_blk_bootindex(struct emu *e, struct blk *b)
{
    struct config_line *line;
    for (line = e->config.devices; line; line = line->next) {
        const char *drive = options_get(&line->opts, "drive"), *index = options_get(&line->opts, "bootindex");
        uint64_t v;
        if (drive && index && b->id && !strcmp(drive, b->id) && parse_u64(index, 0, 1000, &v) == 0)
            return (int)v;
    }
    return -1;
}

static void fw_collect_drives(struct fw *fw)
{
    struct emu *e = fw->emu;
    unsigned keys[FW_MAX_DRIVES], n = 0, seen = 0, i;
    struct blk *b;
    memset(fw->drives, 0, sizeof fw->drives);
    for (b = e->drives; b && n < FW_MAX_DRIVES; b = b->next) {
        const char *kind = fw_blk_option(b, "if", "ide"), *media = fw_blk_option(b, "media", b->removable ? "cdrom" : "disk");
        struct fw_drive *d = &fw->drives[n], copy;
        unsigned index = fw_blk_index(b, seen++), at;
        if (!strcmp(kind, "pflash") || !strcmp(kind, "mtd") || !strcmp(kind, "sd") || !b->in_use)
            continue;
        d->blk = b;
        d->bootindex = fw_blk_bootindex(e, b);
        d->sector_bytes = 512;
        if (!strcmp(kind, "floppy"))
            d->kind = FW_DRIVE_FLOPPY, d->unit = (uint8_t)(index & 1);
        else if (!strcmp(media, "cdrom"))
            d->kind = FW_DRIVE_CD, d->sector_bytes = 2048;
        else
            d->kind = FW_DRIVE_DISK;
        if (d->kind != FW_DRIVE_FLOPPY)
            d->channel = (uint8_t)((index >> 1) & 1), d->unit = (uint8_t)(index & 1);
        /* bootindex= comes first of its kind, so that what is booted is drive 80h, as loaders expect */
        keys[n] = d->kind * 10000u + (d->bootindex >= 0 ? (unsigned)d->bootindex : 1001u + index);
        for (at = n++; at && keys[at - 1] > keys[at]; at--) { /* stable insertion by kind and index */
            unsigned k = keys[at];
            keys[at] = keys[at - 1], keys[at - 1] = k;
            copy = fw->drives[at], fw->drives[at] = fw->drives[at - 1], fw->drives[at - 1] = copy;
        }
    }
    fw->drive_count = n;
    fw->disk_count = fw->floppy_count = fw->cd_count = 0;
    for (i = 0; i < n; i++) {
        struct fw_drive *d = &fw->drives[i];
        uint64_t sectors = fw_drive_sectors(d);
        if (d->kind == FW_DRIVE_FLOPPY) {
            fw->floppy_count++;
            fw_floppy_geometry(d);
        } else if (d->kind == FW_DRIVE_CD)
            fw->cd_count++;
        else {
            fw->disk_count++;
            d->phys_heads = 16;
            d->phys_sectors = 63;
            d->phys_cylinders = (uint16_t)EMU_MIN(sectors / (16 * 63), (uint64_t)16383);
            fw_disk_translate(sectors, 16, 63, &d->cylinders, &d->heads, &d->sectors);
        }
    }
}

static struct fw_drive *fw_nth_drive(struct fw *fw, unsigned kind, unsigned n)
{
    unsigned i;
    for (i = 0; i < fw->drive_count; i++)
        if (fw->drives[i].kind == kind && n-- == 0)
            return &fw->drives[i];
    return NULL;
}

static void fw_disk_counts(struct fw *fw)
{
    unsigned floppies = fw->floppy_count, disks = fw->disk_count, equipment = fw_ld16(fw, BDA_EQUIPMENT) & ~0xC1u;
    if (fw->eltorito.active && fw->eltorito.media >= 1 && fw->eltorito.media <= 3)
        floppies++;
    if (fw->eltorito.active && fw->eltorito.media == 4)
        disks++;
    if (floppies)
        equipment |= 1 | (EMU_MIN(floppies, 2u) - 1) << 6;
    fw_st16(fw, BDA_EQUIPMENT, equipment);
    fw_st8(fw, BDA_DISK_COUNT, disks);
}

/* Fixed disk parameter table: AT technical reference; translated form has signature A0h at 3. */
static void fw_disk_table(struct fw *fw, struct fw_drive *d, uint32_t at, unsigned vector)
{
    uint8_t t[16];
    memset(t, 0, sizeof t);
    st16le(t, d->cylinders);
    st8(t + 2, (uint8_t)d->heads);
    if (d->heads != d->phys_heads) {
        t[3] = 0xA0;
        t[4] = (uint8_t)d->phys_sectors;
        st16le(t + 9, d->phys_cylinders);
        t[11] = (uint8_t)d->phys_heads;
    } else
        st16le(t + 5, 0xFFFF); /* no write precompensation */
    t[8] = d->heads > 8 ? 0xC8 : 0xC0;
    t[14] = (uint8_t)d->sectors;
    t[15] = fw_checksum(t, 15);
    fw_write(fw, at, t, sizeof t);
    fw_set_vector(fw, vector, FW_EBDA_SEGMENT, (uint16_t)(at - FW_EBDA));
}

EMU_PRIV void fw_disk_init(struct fw *fw)
{
    struct fw_drive *d;
    unsigned i;
    fw_collect_drives(fw);
    fw_disk_counts(fw);
    for (i = 0; i < 2; i++) {
        d = fw_nth_drive(fw, FW_DRIVE_DISK, i);
        if (d)
            fw_disk_table(fw, d, i ? EBDA_DISK1 : EBDA_DISK0, i ? 0x46 : 0x41);
        d = fw_nth_drive(fw, FW_DRIVE_FLOPPY, i);
        if (d)
            fw_st8(fw, BDA_FLOPPY_MEDIA + i, fw_floppy_kind(d->blk->image ? d->blk->size_bytes : 1440 * KIB)->rate);
    }
    fw_st8(fw, BDA_FLOPPY_RECAL, 3);
    fw_st8(fw, 0x48F, fw->floppy_count ? 0x07 | (fw->floppy_count > 1 ? 0x70 : 0) : 0); /* drives: 80 tracks, multi-rate, determined */
}

/* ================= moving sectors ================= */

/* What a drive number means now. */
struct fw_target {
    struct fw_drive *d;
    bool emulated;       /* El Torito image on the CD d */
    uint64_t first;      /* image start in 512-byte sectors */
    uint64_t sectors;    /* of 512 bytes */
    uint16_t cylinders, heads, spt;
    unsigned kind;       /* as the caller sees it */
};

static bool fw_find_target(struct fw *fw, unsigned dl, struct fw_target *t)
{
    struct fw_eltorito *el = &fw->eltorito;
    unsigned n;
    memset(t, 0, sizeof *t);
    if (el->active && el->media && dl == el->drive) {
        t->d = el->cd;
        t->emulated = true;
        t->first = (uint64_t)el->image_lba * 4;
        t->sectors = el->image_sectors;
        t->cylinders = el->cylinders, t->heads = el->heads, t->spt = el->sectors;
        t->kind = el->media == 4 ? FW_DRIVE_DISK : FW_DRIVE_FLOPPY;
        return true;
    }
    if (dl >= 0xE0)
        t->kind = FW_DRIVE_CD, n = dl - 0xE0;
    else if (dl >= 0x80)
        t->kind = FW_DRIVE_DISK, n = dl - 0x80;
    else
        t->kind = FW_DRIVE_FLOPPY, n = dl;
    if (el->active && el->media && t->kind == (el->media == 4 ? FW_DRIVE_DISK : FW_DRIVE_FLOPPY) && n)
        n--;
    t->d = fw_nth_drive(fw, t->kind, n);
    if (!t->d)
        return false;
    if (t->kind == FW_DRIVE_FLOPPY)
        fw_floppy_geometry(t->d); /* the medium may have changed */
    t->cylinders = t->d->cylinders, t->heads = t->d->heads, t->spt = t->d->sectors;
    t->sectors = t->kind == FW_DRIVE_FLOPPY ? (uint64_t)t->cylinders * t->heads * t->spt : fw_drive_sectors(t->d);
    return true;
}

enum fw_transfer { FW_TRANSFER_READ, FW_TRANSFER_WRITE, FW_TRANSFER_VERIFY };

/* count sectors of 512 bytes from lba; buffer: linear or (flat) physical address. Returns a status, *done sectors. */
static unsigned fw_transfer(struct fw *fw, struct fw_target *t, enum fw_transfer op, uint64_t lba, uint32_t count, uint64_t buffer, bool flat, uint32_t *done)
{
    uint8_t chunk[16384];
    struct blk *b = t->d->blk;
    *done = 0;
    if (!b->image)
        return t->kind == FW_DRIVE_FLOPPY ? DISK_TIMEOUT : DISK_NO_MEDIA;
    if (lba >= t->sectors || count > t->sectors - lba)
        return DISK_NOT_FOUND;
    if (op == FW_TRANSFER_WRITE && (b->read_only || t->emulated || t->kind == FW_DRIVE_CD))
        return DISK_WRITE_PROTECTED;
    if (fw->relay)
        return DISK_BAD_COMMAND;
    lba += t->first;
    while (count) {
        uint32_t n = EMU_MIN(count, (uint32_t)(sizeof chunk / 512)), bytes = n * 512;
        uint64_t at = lba * 512, there = at < b->size_bytes ? EMU_MIN(b->size_bytes - at, (uint64_t)bytes) : 0;
        if (op == FW_TRANSFER_WRITE) {
            if (flat)
                mem_read(fw->emu, buffer, chunk, bytes);
            else
                fw_read(fw, (uint32_t)buffer, chunk, bytes);
            if (there != bytes)
                return DISK_NOT_FOUND;
            if (blk_write_sync(b, at, chunk, bytes) < 0)
                return DISK_CONTROLLER;
        } else {
            memset(chunk + there, 0, bytes - (size_t)there); /* a floppy image that was cut short */
            if (there && blk_read_sync(b, at, chunk, (size_t)there) < 0)
                return DISK_CONTROLLER;
            if (op == FW_TRANSFER_READ) {
                if (flat)
                    mem_write(fw->emu, buffer, chunk, bytes);
                else
                    fw_write(fw, (uint32_t)buffer, chunk, bytes);
            }
        }
        count -= n, lba += n, buffer += bytes, *done += n;
    }
    return DISK_OK;
}

static unsigned fw_disk_return(struct fw *fw, struct fw_regs *r, unsigned status)
{
    if (!(fw_lo(r->edx) & 0x80))
        fw_st8(fw, BDA_FLOPPY_STATUS, status);
    else
        fw_st8(fw, BDA_DISK_STATUS, status);
    fw_put_hi(&r->eax, status);
    fw_set_cf(r, status != DISK_OK);
    return FW_DONE;
}

static unsigned fw_int13_chs(struct fw *fw, struct fw_regs *r, struct fw_target *t, enum fw_transfer op)
{
    unsigned count = fw_lo(r->eax), cyl = fw_hi(r->ecx) | (fw_lo(r->ecx) & 0xC0u) << 2, sector = fw_lo(r->ecx) & 63u, head = fw_hi(r->edx), status;
    uint32_t done = 0;
    if (t->kind == FW_DRIVE_CD)
        return fw_disk_return(fw, r, DISK_BAD_COMMAND);
    if (t->kind == FW_DRIVE_FLOPPY)
        cyl = fw_hi(r->ecx);
    if (!count || count > 128 || !sector || sector > t->spt || head >= t->heads || cyl >= t->cylinders) {
        fw_put_lo(&r->eax, 0);
        return fw_disk_return(fw, r, !count || count > 128 ? DISK_BAD_COMMAND : DISK_NOT_FOUND);
    }
    if (t->kind == FW_DRIVE_FLOPPY && !t->emulated) { /* motor runs on for two seconds */
        fw_st8(fw, BDA_FLOPPY_MOTOR_TIMEOUT, 37);
        fw_st8(fw, BDA_FLOPPY_MOTOR, fw_ld8(fw, BDA_FLOPPY_MOTOR) | 1u << t->d->unit);
    }
    status = fw_transfer(fw, t, op, ((uint64_t)cyl * t->heads + head) * t->spt + sector - 1, count, ((uint32_t)r->es << 4) + (r->ebx & 0xFFFF), false, &done);
    fw_put_lo(&r->eax, done);
    return fw_disk_return(fw, r, status);
}

static unsigned fw_int13_format(struct fw *fw, struct fw_regs *r, struct fw_target *t)
{
    unsigned cyl = fw_hi(r->ecx), head = fw_hi(r->edx), i;
    uint8_t blank[512];
    if (t->kind != FW_DRIVE_FLOPPY || t->emulated)
        return fw_disk_return(fw, r, t->kind == FW_DRIVE_DISK ? DISK_OK : DISK_BAD_COMMAND);
    if (!t->d->blk->image)
        return fw_disk_return(fw, r, DISK_TIMEOUT);
    if (t->d->blk->read_only)
        return fw_disk_return(fw, r, DISK_WRITE_PROTECTED);
    if (cyl >= t->cylinders || head >= t->heads)
        return fw_disk_return(fw, r, DISK_NOT_FOUND);
    memset(blank, 0xF6, sizeof blank);
    for (i = 0; i < t->spt; i++) {
        uint64_t at = (((uint64_t)cyl * t->heads + head) * t->spt + i) * 512;
        if (at + 512 > t->d->blk->size_bytes || blk_write_sync(t->d->blk, at, blank, sizeof blank) < 0)
            return fw_disk_return(fw, r, DISK_CONTROLLER);
    }
    return fw_disk_return(fw, r, DISK_OK);
}

static unsigned fw_int13_params(struct fw *fw, struct fw_regs *r, struct fw_target *t, bool found, unsigned dl)
{
    unsigned cyl;
    if (!found || t->kind == FW_DRIVE_CD) {
        fw_put_x(&r->eax, 0);
        fw_put_x(&r->ecx, 0);
        fw_put_x(&r->edx, dl & 0x80 ? fw_ld8(fw, BDA_DISK_COUNT) : 0);
        fw_put_lo(&r->ebx, 0);
        if (!(dl & 0x80)) { /* no such floppy is no error: type 0 */
            fw_put_lo(&r->edx, (fw_ld16(fw, BDA_EQUIPMENT) & 1) ? 1 + ((fw_ld16(fw, BDA_EQUIPMENT) >> 6) & 3) : 0);
            return fw_disk_return(fw, r, DISK_OK);
        }
        return fw_disk_return(fw, r, 0x07);
    }
    cyl = t->cylinders - 1u;
    fw_put_lo(&r->eax, 0);
    fw_put_hi(&r->ecx, cyl);
    fw_put_lo(&r->ecx, t->spt | (cyl >> 2 & 0xC0));
    fw_put_hi(&r->edx, t->heads - 1u);
    if (t->kind == FW_DRIVE_FLOPPY) {
        unsigned type = t->emulated ? (t->spt == 15 ? 2 : t->spt == 36 ? 5 : 4) : fdc_drive_type(fw->emu, t->d->unit), equipment = fw_ld16(fw, BDA_EQUIPMENT);
        uint32_t table = fw_ld32(fw, 0x1E * 4);
        fw_put_lo(&r->edx, (equipment & 1) ? 1 + ((equipment >> 6) & 3) : 0);
        fw_put_x(&r->ebx, type ? type : 4);
        r->es = (uint16_t)(table >> 16);
        fw_put_x(&r->edi, table & 0xFFFF);
    } else
        fw_put_lo(&r->edx, fw_ld8(fw, BDA_DISK_COUNT));
    return fw_disk_return(fw, r, DISK_OK);
}

/* ================= EDD 3 ================= */

static unsigned fw_int13_edd_rw(struct fw *fw, struct fw_regs *r, struct fw_target *t, unsigned fn)
{
    uint8_t dap[24];
    uint32_t packet = ((uint32_t)r->ds << 4) + (r->esi & 0xFFFF), count, done = 0, per;
    uint64_t lba, buffer;
    bool flat = false;
    unsigned status;
    fw_read(fw, packet, dap, sizeof dap);
    if (dap[0] < 16)
        return fw_disk_return(fw, r, DISK_BAD_COMMAND);
    count = ld16le(dap + 2);
    lba = ld64le(dap + 8);
    buffer = ((uint32_t)ld16le(dap + 6) << 4) + ld16le(dap + 4);
    if (dap[0] >= 24 && ld32le(dap + 4) == 0xFFFFFFFFu)
        buffer = ld64le(dap + 16), flat = true;
    per = t->kind == FW_DRIVE_CD ? 4 : 1;
    if (fn == 0x47) { /* seek */
        status = lba < t->sectors / per ? DISK_OK : DISK_NOT_FOUND;
        return fw_disk_return(fw, r, status);
    }
    if (lba > (UINT64_C(1) << 56)) {
        st16le(dap + 2, 0);
        fw_write(fw, packet + 2, dap + 2, 2);
        return fw_disk_return(fw, r, DISK_NOT_FOUND);
    }
    status = fw_transfer(fw, t, fn == 0x42 ? FW_TRANSFER_READ : fn == 0x43 ? FW_TRANSFER_WRITE : FW_TRANSFER_VERIFY, lba * per, count * per, buffer, flat, &done);
    st16le(dap + 2, (uint16_t)(done / per)); /* EDD: blocks that were moved */
    fw_write(fw, packet + 2, dap + 2, 2);
    return fw_disk_return(fw, r, status);
}

static unsigned fw_int13_edd_params(struct fw *fw, struct fw_regs *r, struct fw_target *t)
{
    static const uint16_t io[2] = { 0x1F0, 0x170 }, control[2] = { 0x3F6, 0x376 };
    uint8_t p[74], dpte[16];
    uint32_t at = ((uint32_t)r->ds << 4) + (r->esi & 0xFFFF);
    unsigned room = fw_ld16(fw, at), size = room >= 74 ? 74 : room >= 66 ? 66 : room >= 30 ? 30 : 26;
    uint64_t sectors = t->kind == FW_DRIVE_CD ? t->sectors / 4 : t->sectors;
    struct fw_drive *d = t->d;
    if (room < 26)
        return fw_disk_return(fw, r, DISK_BAD_COMMAND);
    memset(p, 0, sizeof p);
    st16le(p, (uint16_t)size);
    if (t->kind == FW_DRIVE_CD) {
        st16le(p + 2, 0x74); /* removable, lockable, change line, geometry not valid */
        st32le(p + 4, 0xFFFFFFFF), st32le(p + 8, 0xFFFFFFFF), st32le(p + 12, 0xFFFFFFFF);
    } else {
        uint64_t limit = (uint64_t)16383 * 16 * 63;
        st16le(p + 2, sectors > limit ? 0 : 2); /* geometry valid */
        st32le(p + 4, sectors > limit ? 16383 : (uint32_t)(sectors / (16 * 63)));
        st32le(p + 8, 16), st32le(p + 12, 63);
    }
    st64le(p + 16, t->kind == FW_DRIVE_CD && !d->blk->image ? UINT64_MAX : sectors);
    st16le(p + 24, t->kind == FW_DRIVE_CD ? 2048 : 512);
    if (size >= 30) { /* device parameter table extension */
        memset(dpte, 0, sizeof dpte);
        st16le(dpte, io[d->channel]);
        st16le(dpte + 2, control[d->channel]);
        dpte[4] = (uint8_t)(0xE0 | d->unit << 4);
        dpte[5] = 0xCB;
        dpte[6] = d->channel ? 15 : 14;
        dpte[7] = 1;
        st16le(dpte + 10, (uint16_t)(0x10 | (t->kind == FW_DRIVE_CD ? 0x60 : 0) | (d->heads > 16 ? 0x08 | 1 << 9 : 0x08))); /* LBA, 32-bit, ATAPI, LBA-assisted */
        dpte[14] = 0x11;
        dpte[15] = fw_checksum(dpte, 15);
        fw_write(fw, EBDA_DPT, dpte, sizeof dpte);
        st16le(p + 26, EBDA_DPT - FW_EBDA);
        st16le(p + 28, FW_EBDA_SEGMENT);
    }
    if (size >= 66) { /* device path */
        st16le(p + 30, 0xBEDD);
        p[32] = (uint8_t)(size == 74 ? 44 : 36);
        memcpy(p + 36, "PCI ", 4);
        memcpy(p + 40, t->kind == FW_DRIVE_CD ? "ATAPI   " : "ATA     ", 8);
        p[48] = 0, p[49] = 1, p[50] = 1, p[51] = d->channel; /* bus, device, function, channel */
        p[56] = d->unit;
        p[size - 1] = fw_checksum(p + 30, size - 31);
    }
    fw_write(fw, at, p, size);
    return fw_disk_return(fw, r, DISK_OK);
}

static unsigned fw_int13_eltorito(struct fw *fw, struct fw_regs *r)
{
    struct fw_eltorito *el = &fw->eltorito;
    uint32_t at = ((uint32_t)r->ds << 4) + (r->esi & 0xFFFF);
    uint8_t p[0x13];
    if (!el->active)
        return fw_disk_return(fw, r, DISK_BAD_COMMAND);
    memset(p, 0, sizeof p);
    p[0] = sizeof p;
    p[1] = el->media;
    p[2] = el->drive;
    p[3] = el->cd->channel;
    st32le(p + 4, el->image_lba);
    st16le(p + 8, el->cd->unit);
    st16le(p + 12, el->load_segment);
    st16le(p + 14, el->load_sectors);
    if (el->media) {
        unsigned cyl = el->cylinders - 1u;
        p[16] = (uint8_t)cyl;
        p[17] = (uint8_t)(el->sectors | (cyl >> 2 & 0xC0));
        p[18] = (uint8_t)(el->heads - 1);
    }
    fw_write(fw, at, p, sizeof p);
    if (fw_lo(r->eax) == 0 && el->media) { /* end of emulation */
        el->active = false;
        fw_disk_counts(fw);
    }
    return fw_disk_return(fw, r, DISK_OK);
}

static unsigned fw_int13_edd(struct fw *fw, struct fw_regs *r, struct fw_target *t)
{
    unsigned fn = fw_hi(r->eax);
    if (t->kind == FW_DRIVE_FLOPPY)
        return fw_disk_return(fw, r, DISK_BAD_COMMAND);
    switch (fn) {
    case 0x41:
        if ((r->ebx & 0xFFFF) != 0x55AA)
            return fw_disk_return(fw, r, DISK_BAD_COMMAND);
        fw_put_x(&r->ebx, 0xAA55);
        fw_put_x(&r->ecx, 0x0007); /* packets, locking, EDD */
        fw_disk_return(fw, r, DISK_OK);
        fw_put_hi(&r->eax, 0x30); /* version 3.0 */
        return FW_DONE;
    case 0x42: case 0x43: case 0x44: case 0x47: return fw_int13_edd_rw(fw, r, t, fn);
    case 0x45:
        if (t->kind != FW_DRIVE_CD)
            return fw_disk_return(fw, r, DISK_NOT_REMOVABLE);
        if (fw_lo(r->eax) == 0)
            t->d->locked = true;
        else if (fw_lo(r->eax) == 1)
            t->d->locked = false;
        fw_put_lo(&r->eax, t->d->locked);
        return fw_disk_return(fw, r, DISK_OK);
    case 0x46:
        if (t->kind != FW_DRIVE_CD)
            return fw_disk_return(fw, r, DISK_NOT_REMOVABLE);
        if (t->d->locked)
            return fw_disk_return(fw, r, DISK_LOCKED);
        return fw_disk_return(fw, r, blk_eject(t->d->blk, true, NULL) < 0 ? DISK_CONTROLLER : DISK_OK);
    case 0x48: return fw_int13_edd_params(fw, r, t);
    case 0x49: return fw_disk_return(fw, r, DISK_OK); /* medium not changed */
    case 0x4E: return fw_disk_return(fw, r, fw_lo(r->eax) <= 6 ? DISK_OK : DISK_BAD_COMMAND);
    default: return fw_disk_return(fw, r, DISK_BAD_COMMAND);
    }
}

/* ================= INT 13h ================= */

EMU_PRIV unsigned fw_int13(struct fw *fw, struct fw_regs *r)
{
    struct fw_target t;
    unsigned fn = fw_hi(r->eax), dl = fw_lo(r->edx);
    bool found = fw_find_target(fw, dl, &t);
    if (fn == 0x08)
        return fw_int13_params(fw, r, &t, found, dl);
    if (fn == 0x4B && fw_lo(r->eax) <= 1)
        return fw_int13_eltorito(fw, r);
    if (fn == 0x15 && !found) {
        fw_put_x(&r->eax, 0); /* no drive */
        fw_set_cf(r, (dl & 0x80) != 0);
        return FW_DONE;
    }
    if (!found) {
        if (fn == 0x00 && !(dl & 0x80))
            return fw_disk_return(fw, r, DISK_OK);
        return fw_disk_return(fw, r, dl & 0x80 ? DISK_BAD_COMMAND : DISK_TIMEOUT);
    }
    switch (fn) {
    case 0x00: case 0x09: case 0x0C: case 0x0D: case 0x11: case 0x14: return fw_disk_return(fw, r, DISK_OK);
    case 0x10: return fw_disk_return(fw, r, t.d->blk->image ? DISK_OK : 0xAA);
    case 0x01: {
        unsigned status = fw_ld8(fw, dl & 0x80 ? BDA_DISK_STATUS : BDA_FLOPPY_STATUS);
        fw_put_hi(&r->eax, status);
        fw_set_cf(r, status != 0);
        return FW_DONE;
    }
    case 0x02: return fw_int13_chs(fw, r, &t, FW_TRANSFER_READ);
    case 0x03: return fw_int13_chs(fw, r, &t, FW_TRANSFER_WRITE);
    case 0x04: return fw_int13_chs(fw, r, &t, FW_TRANSFER_VERIFY);
    case 0x05: return fw_int13_format(fw, r, &t);
    case 0x15:
        if (t.kind == FW_DRIVE_DISK) {
            uint32_t sectors = (uint32_t)EMU_MIN((uint64_t)(t.cylinders - 1u) * t.heads * t.spt, (uint64_t)UINT32_MAX);
            fw_put_x(&r->ecx, sectors >> 16);
            fw_put_x(&r->edx, sectors & 0xFFFF);
            fw_st8(fw, BDA_DISK_STATUS, 0);
            fw_put_hi(&r->eax, 3);
        } else {
            fw_st8(fw, BDA_FLOPPY_STATUS, 0);
            fw_put_hi(&r->eax, t.kind == FW_DRIVE_FLOPPY ? 1 : 2);
        }
        fw_set_cf(r, false);
        return FW_DONE;
    case 0x16: return fw_disk_return(fw, r, t.d->blk->image ? DISK_OK : DISK_TIMEOUT);
    case 0x17: case 0x18: {
        uint32_t table = fw_ld32(fw, 0x1E * 4);
        if (t.kind != FW_DRIVE_FLOPPY)
            return fw_disk_return(fw, r, DISK_BAD_COMMAND);
        if (fn == 0x18) {
            if ((fw_lo(r->ecx) & 63u) != t.spt || fw_hi(r->ecx) + 1u > t.cylinders + 2u)
                return fw_disk_return(fw, r, 0x0C);
            r->es = (uint16_t)(table >> 16);
            fw_put_x(&r->edi, table & 0xFFFF);
        }
        return fw_disk_return(fw, r, DISK_OK);
    }
    case 0x41: case 0x42: case 0x43: case 0x44: case 0x45: case 0x46: case 0x47: case 0x48: case 0x49: case 0x4E:
        return fw_int13_edd(fw, r, &t);
    default: return fw_disk_return(fw, r, DISK_BAD_COMMAND);
    }
}

/* IRQ 6: programs that drive the controller themselves wait for this bit. */
EMU_PRIV unsigned fw_int0e(struct fw *fw, struct fw_regs *r)
{
    (void)r;
    fw_st8(fw, BDA_FLOPPY_RECAL, fw_ld8(fw, BDA_FLOPPY_RECAL) | 0x80u);
    fw_eoi(fw, 6);
    return FW_DONE;
}

/* ================= boot ================= */

static const char *fw_kind_name(unsigned kind)
{
    return kind == FW_DRIVE_FLOPPY ? "floppy" : kind == FW_DRIVE_CD ? "CD" : "hard disk";
}

static void fw_boot_add(struct fw *fw, unsigned kind)
{
    unsigned i, k;
    for (i = 0; i < fw->drive_count; i++) {
        bool known = false;
        for (k = 0; k < fw->boot_count; k++)
            known |= fw->boot[k].drive == &fw->drives[i];
        if (fw->drives[i].kind == kind && !known && fw->boot_count < EMU_ARRAY_LEN(fw->boot)) {
            fw->boot[fw->boot_count].kind = (uint8_t)kind;
            fw->boot[fw->boot_count++].drive = &fw->drives[i];
        }
    }
}

/* bootindex first, in its order; then -boot's letters; then, unless strict, what is left. */
EMU_PRIV void fw_boot_list(struct fw *fw)
{
    const char *order = fw->emu->config.boot_order[0] ? fw->emu->config.boot_order : "cad";
    unsigned i;
    int wanted;
    fw->boot_count = 0;
    for (wanted = 0; wanted <= 1000; wanted++)
        for (i = 0; i < fw->drive_count; i++)
            if (fw->drives[i].bootindex == wanted && fw->boot_count < EMU_ARRAY_LEN(fw->boot)) {
                fw->boot[fw->boot_count].kind = fw->drives[i].kind;
                fw->boot[fw->boot_count++].drive = &fw->drives[i];
            }
    for (; *order; order++)
        fw_boot_add(fw, *order == 'a' || *order == 'b' ? FW_DRIVE_FLOPPY : *order == 'c' ? FW_DRIVE_DISK : *order == 'd' ? FW_DRIVE_CD : FW_DRIVE_NONE);
    if (!fw->emu->config.boot_strict) {
        fw_boot_add(fw, FW_DRIVE_FLOPPY);
        fw_boot_add(fw, FW_DRIVE_CD);
        fw_boot_add(fw, FW_DRIVE_DISK);
    }
}

static unsigned fw_drive_number(struct fw *fw, const struct fw_drive *d)
{
    unsigned n = 0, i;
    for (i = 0; i < fw->drive_count && &fw->drives[i] != d; i++)
        n += fw->drives[i].kind == d->kind;
    return n + (d->kind == FW_DRIVE_DISK ? 0x80u : d->kind == FW_DRIVE_CD ? 0xE0u : 0);
}

static int fw_read_cd(struct fw_drive *d, uint32_t lba, uint8_t *buf, size_t size)
{
    uint64_t at = (uint64_t)lba * 2048;
    if (at + size > d->blk->size_bytes)
        return EMU_ERANGE;
    return blk_read_sync(d->blk, at, buf, size);
}

static uint32_t fw_start_address(uint16_t segment) { return (uint32_t)(segment & 0xF000) << 16 | (uint32_t)(segment & 0x0FFF) << 4; }

/* El Torito §2: boot record at sector 17, catalog, default entry. Returns NULL and fills start and drive number, or why not. */
static const char *fw_boot_cd(struct fw *fw, struct fw_drive *d, uint32_t *start, unsigned *dl)
{
    static const uint16_t floppy_sectors[4] = { 0, 15, 18, 36 };
    struct fw_eltorito *el = &fw->eltorito;
    struct fw_target cd;
    uint8_t sector[2048];
    uint32_t bytes, done;
    unsigned sum = 0, i;
    el->active = false;
    if (fw_read_cd(d, 17, sector, sizeof sector) < 0)
        return "not readable as a CD";
    if (memcmp(sector + 1, "CD001", 5) || sector[0] || memcmp(sector + 7, "EL TORITO SPECIFICATION", 23))
        return "no El Torito boot record";
    if (fw_read_cd(d, ld32le(sector + 0x47), sector, sizeof sector) < 0)
        return "boot catalog not readable";
    for (i = 0; i < 32; i += 2)
        sum += ld16le(sector + i);
    if (sector[0] != 1 || sector[30] != 0x55 || sector[31] != 0xAA || (sum & 0xFFFF))
        return "boot catalog damaged";
    if (sector[32] != 0x88)
        return "default boot entry not bootable";
    if (sector[1] != 0)
        return "boot entry is for another platform";
    el->media = sector[33] & 15;
    if (el->media > 4)
        return "unknown boot media type";
    el->load_segment = ld16le(sector + 34) ? ld16le(sector + 34) : 0x07C0;
    el->load_sectors = ld16le(sector + 38) ? ld16le(sector + 38) : 1;
    el->image_lba = ld32le(sector + 40);
    el->cd = d;
    bytes = el->load_sectors * 512u;
    if (((uint32_t)el->load_segment << 4) + bytes > 0x9F000)
        bytes = 0x9F000 - EMU_MIN((uint32_t)el->load_segment << 4, (uint32_t)0x9F000);
    memset(&cd, 0, sizeof cd);
    cd.d = d;
    cd.kind = FW_DRIVE_CD;
    cd.sectors = d->blk->size_bytes / 512;
    if ((uint64_t)el->image_lba * 4 + bytes / 512 > cd.sectors)
        return "boot image lies outside of the CD";
    if (fw_transfer(fw, &cd, FW_TRANSFER_READ, (uint64_t)el->image_lba * 4, bytes / 512, (uint32_t)el->load_segment << 4, false, &done) != DISK_OK)
        return "boot image not readable";
    if (el->media == 0)
        el->drive = (uint8_t)fw_drive_number(fw, d);
    else if (el->media < 4) {
        el->drive = 0;
        el->cylinders = 80, el->heads = 2, el->sectors = floppy_sectors[el->media];
        el->image_sectors = (uint64_t)el->cylinders * el->heads * el->sectors;
    } else { /* geometry from the image's own partition table */
        uint8_t mbr[512];
        el->drive = 0x80;
        fw_read(fw, (uint32_t)el->load_segment << 4, mbr, sizeof mbr);
        el->sectors = (uint16_t)EMU_MAX(mbr[446 + 6] & 63, 1);
        el->heads = (uint16_t)(mbr[446 + 5] + 1);
        el->cylinders = (uint16_t)((mbr[446 + 7] | (mbr[446 + 6] & 0xC0) << 2) + 1);
        el->image_sectors = (uint64_t)ld32le(mbr + 446 + 8) + ld32le(mbr + 446 + 12);
    }
    if (el->media) {
        uint64_t room = cd.sectors - (uint64_t)el->image_lba * 4;
        el->image_sectors = EMU_MIN(el->image_sectors, room);
    }
    el->active = true;
    fw_disk_counts(fw);
    *start = fw_start_address(el->load_segment);
    *dl = el->drive;
    return NULL;
}

static const char *fw_boot_entry_try(struct fw *fw, struct fw_boot_entry *b, uint32_t *start, unsigned *dl)
{
    struct fw_drive *d = b->drive;
    uint8_t sector[512];
    if (!d->blk->image)
        return "empty";
    if (b->kind == FW_DRIVE_CD)
        return fw_boot_cd(fw, d, start, dl);
    if (d->blk->size_bytes < 512 || blk_read_sync(d->blk, 0, sector, sizeof sector) < 0)
        return "first sector not readable";
    if (sector[510] != 0x55 || sector[511] != 0xAA)
        return "no boot signature (55 AA)";
    fw_write(fw, 0x7C00, sector, sizeof sector);
    *start = 0x7C00;
    *dl = fw_drive_number(fw, d);
    return NULL;
}

/* The frame becomes the CPU's state at the start of the boot sector. */
static unsigned fw_boot_go(struct fw *fw, struct fw_regs *r, uint32_t start, unsigned dl)
{
    (void)fw;
    r->eax = 0xAA55;
    r->ebx = r->ecx = r->esi = r->edi = r->ebp = 0;
    r->edx = dl;
    r->ds = r->es = r->fs = r->gs = 0;
    r->cs = (uint16_t)(start >> 16);
    r->ip = (uint16_t)start;
    r->flags = 0x0202;
    return FW_DONE;
}

static void fw_boot_nothing(struct fw *fw)
{
    char line[480];
    snprintf(line, sizeof line, "\r\nemu: no bootable device: %s\r\nPress a key to try again.\r\n", fw->boot_tried[0] ? fw->boot_tried : "no drive with a medium; give a disk image");
    fw_print(fw, line);
    fw_print_serial(fw, line);
}

static unsigned fw_boot_from(struct fw *fw, struct fw_regs *r)
{
    uint32_t start = 0;
    unsigned dl = 0;
    for (; fw->boot_next < fw->boot_count; ) {
        struct fw_boot_entry *b = &fw->boot[fw->boot_next++];
        const char *why = fw_boot_entry_try(fw, b, &start, &dl);
        size_t used = strlen(fw->boot_tried);
        if (!why)
            return fw_boot_go(fw, r, start, dl);
        snprintf(fw->boot_tried + used, sizeof fw->boot_tried - used, "%s%s %u: %s", used ? "; " : "", fw_kind_name(b->kind), fw_drive_number(fw, b->drive) & 0x1F, why);
    }
    fw_boot_nothing(fw);
    fw_set_phase(r, 9);
    return fw_wait(fw);
}

enum { BOOT_START, BOOT_MENU_KEY, BOOT_MENU_CHOICE, BOOT_TRY, BOOT_FAILED = 9 };

static unsigned fw_boot_menu_show(struct fw *fw, struct fw_regs *r)
{
    char line[160];
    unsigned i;
    fw_print(fw, "\r\nBoot from:\r\n\r\n");
    for (i = 0; i < fw->boot_count && i < 9; i++) {
        struct fw_drive *d = fw->boot[i].drive;
        snprintf(line, sizeof line, "%u. %s %u  %lu MiB  %s\r\n", i + 1, fw_kind_name(d->kind), fw_drive_number(fw, d) & 0x1F, (unsigned long)(d->blk->image ? d->blk->size_bytes / MIB : 0),
                 d->blk->id ? d->blk->id : "");
        fw_print(fw, line);
    }
    fw_set_phase(r, BOOT_MENU_CHOICE);
    return fw_wait(fw);
}

EMU_PRIV unsigned fw_int19(struct fw *fw, struct fw_regs *r)
{
    uint16_t key;
    switch (fw_phase(r)) {
    case BOOT_START:
        fw->boot_next = 0;
        fw->boot_tried[0] = 0;
        if (!fw->emu->config.boot_menu)
            return fw_boot_from(fw, r);
        fw_print(fw, "Press ESC for boot menu.\r\n");
        r->state = fw_ld32(fw, BDA_TICKS);
        fw_set_phase(r, BOOT_MENU_KEY);
        return fw_wait(fw);
    case BOOT_MENU_KEY:
        if (fw_kbd_get(fw, &key, true) && (key == 0x011B || key == 0x8600)) /* ESC, F12 */
            return fw_boot_menu_show(fw, r);
        if (fw_ticks_since(fw, r->state) <= (fw->emu->config.boot_menu_timeout_ms ? fw->emu->config.boot_menu_timeout_ms : 2500) * 18 / 1000)
            return fw_wait(fw);
        return fw_boot_from(fw, r);
    case BOOT_MENU_CHOICE:
        if (fw_kbd_get(fw, &key, true)) {
            unsigned n = (key & 0xFFu) - '1';
            if (n < fw->boot_count && n < 9) {
                struct fw_boot_entry chosen = fw->boot[n];
                for (; n; n--)
                    fw->boot[n] = fw->boot[n - 1];
                fw->boot[0] = chosen;
                fw_set_phase(r, BOOT_TRY);
                return fw_boot_from(fw, r);
            }
        }
        return fw_wait(fw);
    case BOOT_FAILED:
        if (!fw_kbd_get(fw, &key, true))
            return fw_wait(fw);
        fw_boot_list(fw);
        fw->boot_next = 0;
        fw->boot_tried[0] = 0;
        return fw_boot_from(fw, r);
    default: return fw_boot_from(fw, r);
    }
}

/* A boot sector gave up: the next device. */
EMU_PRIV unsigned fw_int18(struct fw *fw, struct fw_regs *r)
{
    size_t used = strlen(fw->boot_tried);
    if (fw_phase(r) == BOOT_FAILED)
        return fw_int19(fw, r);
    if (fw->boot_next && fw->boot_next <= fw->boot_count) {
        struct fw_boot_entry *b = &fw->boot[fw->boot_next - 1];
        snprintf(fw->boot_tried + used, sizeof fw->boot_tried - used, "%s%s %u: started, gave up", used ? "; " : "", fw_kind_name(b->kind),
                 fw_drive_number(fw, b->drive) & 0x1F);
    }
    return fw_boot_from(fw, r);
}
