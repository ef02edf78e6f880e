/* fw_bios.c - the built-in BIOS, its tables and the kernel loader, driven through the frame interface without running a CPU.
 *
 * Expected values come from the documents that are named at each test: IBM's BIOS interface, EDD 3, El Torito, VBE 3, ACPI 6, SMBIOS 2.8,
 * the MP specification, the Linux boot protocol and Multiboot 1. Table byte code is also given to iasl where that is installed.
 */
#include "../src/machine.h"
#include "../src/cpu/cpu.h"
#include "../src/dev/dev.h"
#include "../src/fw/fw.h"
#include "test.h"

static char why[600];

/* A machine that went through its power-on self test, as if CPU 0 had reset into it. */
static struct emu *machine(const char *a, const char *b, const char *c, const char *d)
{
    const char *argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-m", "64M", a, b, c, d };
    int argc = 8 + (a != NULL) + (b != NULL) + (c != NULL) + (d != NULL);
    struct emu *e = emu_new(NULL);
    if (!e || emu_configure(e, argc, argv, why, sizeof why)) {
        printf("machine: %s\n", why);
        return NULL;
    }
    board_reset(e);
    e->current_cpu = e->cpus[0];
    fw_post(e->firmware);
    return e;
}

static void done(struct emu *e)
{
    e->current_cpu = NULL;
    emu_destroy(e);
}

static unsigned call(struct emu *e, unsigned vector, struct fw_regs *r)
{
    unsigned command = 99;
    r->service = (uint16_t)vector;
    r->flags = 0x0202;
    fw_run_frame(e->firmware, r, &command);
    return command;
}

static void make_file(const char *path, const uint8_t *data, size_t size, size_t full)
{
    FILE *f = fopen(path, "wb");
    static const uint8_t zero[512] = { 0 };
    if (!f)
        return;
    fwrite(data, 1, size, f);
    for (; size < full; size += 512)
        fwrite(zero, 1, 512, f);
    fclose(f);
}

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;
    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

/* ---- ROM ---- */

/* IBM PC/AT technical reference: reset vector at F000:FFF0, model byte FCh at F000:FFFE, fixed entry points. */
TEST(rom_has_reset_vector_and_fixed_entry_points)
{
    static uint8_t rom[FW_ROM_BYTES];
    static const uint16_t entries[] = { 0xE2C3, 0xE3FE, 0xE739, 0xE82E, 0xE987, 0xEC59, 0xEF57, 0xEFD2, 0xF065, 0xF841, 0xF84D, 0xF859, 0xFE6E, 0xFEA5 };
    size_t i;
    fw_build_rom(rom);
    CHECK_EQ(rom[0x1FFF0], 0xEA);
    CHECK_EQ(ld16le(rom + 0x1FFF1), 0xE05B);
    CHECK_EQ(ld16le(rom + 0x1FFF3), 0xF000);
    CHECK_EQ(rom[0x1FFFE], 0xFC);
    CHECK_EQ(rom[0x1FF53], 0xCF);
    for (i = 0; i < sizeof entries / sizeof *entries; i++) /* push imm16; jmp near to one place */ {
        const uint8_t *p = rom + 0x10000 + entries[i];
        CHECK_EQ(p[0], 0x68);
        CHECK_EQ(p[3], 0xE9);
        CHECK_EQ((uint16_t)(entries[i] + 6 + ld16le(p + 4)), 0xD000);
    }
}

TEST(fonts_have_ink_where_letters_are_and_frames_reach_the_edges)
{
    static uint8_t f[256 * 16];
    unsigned i, y;
    font_render(f, 16);
    for (i = 33; i < 127; i++) {
        unsigned ink = 0;
        for (y = 0; y < 16; y++)
            ink |= f[i * 16 + y];
        CHECK(ink != 0);
    }
    CHECK_EQ(sum(f + ' ' * 16, 16), 0);
    CHECK_EQ(f[0xDB * 16], 0xFF);
    CHECK(f[0xB3 * 16] && f[0xB3 * 16 + 15]);         /* vertical line: top to bottom */
    CHECK_EQ(f[0xC4 * 16 + 7], 0xFF);                 /* horizontal line: edge to edge */
    CHECK_EQ(f[0xC9 * 16 + 0], 0);                    /* upper left corner has nothing above */
}

/* ---- memory ---- */

/* ACPI 6 §15: ranges in order, none overlapping; INT 15h/88h and E801h agree with them. */
TEST(e820_is_ordered_and_agrees_with_the_older_calls)
{
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    struct fw_regs r;
    uint8_t m[20];
    uint64_t end = 0, ram = 0;
    unsigned n = 0;
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    do {
        r.eax = 0xE820, r.edx = 0x534D4150, r.ecx = 20, r.es = 0x1000, r.edi = 0;
        CHECK_EQ(call(e, 0x15, &r), FW_DONE);
        CHECK_EQ(r.flags & FW_CF, 0);
        CHECK_EQ(r.eax, 0x534D4150);
        CHECK_EQ(r.ecx, 20);
        mem_read(e, 0x10000, m, sizeof m);
        CHECK(ld64le(m) >= end);
        end = ld64le(m) + ld64le(m + 8);
        if (ld32le(m + 16) == 1 && ld64le(m) == 0x100000)
            ram = ld64le(m + 8);
        n++;
    } while (r.ebx && n < 20);
    CHECK(n >= 5 && n < 20);
    CHECK_EQ(ram, 64 * MIB - MIB - 0x20000);
    memset(&r, 0, sizeof r);
    r.eax = 0x8800;
    call(e, 0x15, &r);
    CHECK_EQ(r.eax & 0xFFFF, ram / 1024);
    memset(&r, 0, sizeof r);
    r.eax = 0xE801;
    call(e, 0x15, &r);
    CHECK_EQ(r.eax & 0xFFFF, 15 * 1024);
    CHECK_EQ(r.ebx & 0xFFFF, (ram - 15 * MIB) / 65536);
    memset(&r, 0, sizeof r);
    call(e, 0x12, &r);
    CHECK_EQ(r.eax, 639);
    r.eax = 0x2402;
    call(e, 0x15, &r);
    CHECK_EQ(r.eax & 0xFF, 1); /* A20 is open */
    done(e);
}

/* ---- disks ---- */

TEST(int13_reads_the_same_sector_by_chs_and_by_lba)
{
    static uint8_t image[64 * 512];
    struct emu *e;
    struct fw_regs r;
    uint8_t dap[24], sector[512], params[74];
    unsigned i, lba = 63 * 16 * 3 + 63 * 5 + 7, cylinders;
    const char *path = "build/tests/fw_disk.img";
    for (i = 0; i < sizeof image; i++)
        image[i] = (uint8_t)(i / 512);
    make_file(path, image, sizeof image, 20 << 20);
    e = machine("-drive", "file=build/tests/fw_disk.img,format=raw", NULL, NULL);
    CHECK(e != NULL);
    /* 08h: geometry */
    memset(&r, 0, sizeof r);
    r.eax = 0x0800, r.edx = 0x80;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(r.edx & 0xFF, 1);
    CHECK_EQ(fw_lo(r.ecx) & 63, 63);
    CHECK_EQ(fw_hi(r.edx), 15);
    cylinders = (fw_hi(r.ecx) | (fw_lo(r.ecx) & 0xC0) << 2) + 1;
    CHECK_EQ(cylinders, (20 << 20) / 512 / (16 * 63));
    /* write by CHS, read by LBA (EDD packet) */
    memset(sector, 0xA5, sizeof sector);
    mem_write(e, 0x20000, sector, sizeof sector);
    memset(&r, 0, sizeof r);
    r.eax = 0x0301, r.ecx = 3 << 8 | 8, r.edx = 5 << 8 | 0x80, r.es = 0x2000;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(r.eax, 1);
    memset(&r, 0, sizeof r);
    r.eax = 0x4100, r.ebx = 0x55AA, r.edx = 0x80;
    call(e, 0x13, &r);
    CHECK_EQ(r.ebx & 0xFFFF, 0xAA55);
    CHECK_EQ(fw_hi(r.eax), 0x30);
    memset(dap, 0, sizeof dap);
    dap[0] = 16;
    st16le(dap + 2, 1);
    st16le(dap + 6, 0x3000);
    st64le(dap + 8, lba);
    mem_write(e, 0x8000, dap, sizeof dap);
    memset(&r, 0, sizeof r);
    r.eax = 0x4200, r.edx = 0x80, r.ds = 0x800;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(mem_ld(e, 0x30000, 4), 0xA5A5A5A5);
    CHECK_EQ(mem_ld(e, 0x301FC, 4), 0xA5A5A5A5);
    /* behind the end: error 04h, nothing moved, block count 0 */
    st64le(dap + 8, (20 << 20) / 512);
    mem_write(e, 0x8000, dap, sizeof dap);
    r.eax = 0x4200;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, FW_CF);
    CHECK_EQ(fw_hi(r.eax), 0x04);
    CHECK_EQ(mem_ld(e, 0x8002, 2), 0);
    /* EDD 3 drive parameters: size, sectors, device path checksum */
    memset(params, 0, sizeof params);
    st16le(params, 74);
    mem_write(e, 0x8000, params, sizeof params);
    r.eax = 0x4800;
    r.esi = 0;
    call(e, 0x13, &r);
    mem_read(e, 0x8000, params, sizeof params);
    CHECK_EQ(ld16le(params), 74);
    CHECK_EQ(ld64le(params + 16), (20 << 20) / 512);
    CHECK_EQ(ld16le(params + 24), 512);
    CHECK_EQ(ld16le(params + 30), 0xBEDD);
    CHECK_EQ(sum(params + 30, 44), 0);
    /* sector 0, too large a head, no such drive */
    memset(&r, 0, sizeof r);
    r.eax = 0x0201, r.ecx = 0x0000, r.edx = 0x80;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, FW_CF);
    memset(&r, 0, sizeof r);
    r.eax = 0x0201, r.ecx = 1, r.edx = 0x85;
    call(e, 0x13, &r);
    CHECK_EQ(fw_hi(r.eax), 1);
    done(e);
}

/* LBA-assisted translation: 63 sectors, heads 16, 32, 64, 128, 255, at most 1024 cylinders. */
TEST(int13_translates_large_disks)
{
    static const struct { uint64_t mib; uint16_t cylinders, heads; } want[] = { { 504, 1024, 16 }, { 600, 609, 32 }, { 4096, 1024, 128 }, { 8064, 1024, 255 }, { 200000, 1024, 255 } };
    uint16_t c, h, s;
    size_t i;
    for (i = 0; i < sizeof want / sizeof *want; i++) {
        fw_disk_translate(want[i].mib * 2048, 16, 63, &c, &h, &s);
        CHECK_EQ(s, 63);
        CHECK(c <= 1024 && h <= 255);
        if (want[i].mib == 504 || want[i].mib == 600 || want[i].mib == 200000) {
            CHECK_EQ(h, want[i].heads);
            CHECK_EQ(c, want[i].cylinders);
        }
        CHECK((uint64_t)c * h * s <= want[i].mib * 2048);
    }
}

TEST(boot_takes_a_signed_sector_to_7c00_with_its_drive_in_dl)
{
    uint8_t mbr[512];
    struct emu *e;
    struct fw_regs r;
    memset(mbr, 0x90, sizeof mbr);
    mbr[510] = 0x55, mbr[511] = 0xAA;
    make_file("build/tests/fw_boot.img", mbr, sizeof mbr, 1 << 20);
    e = machine("-drive", "file=build/tests/fw_boot.img,format=raw", NULL, NULL);
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    CHECK_EQ(call(e, 0x19, &r), FW_DONE);
    CHECK_EQ(r.cs, 0);
    CHECK_EQ(r.ip, 0x7C00);
    CHECK_EQ(r.edx & 0xFF, 0x80);
    CHECK_EQ(mem_ld(e, 0x7C00, 4), 0x90909090);
    CHECK_EQ(mem_ld(e, 0x7DFE, 2), 0xAA55);
    done(e);
}

/* The counter at 46Ch begins anew at 1800B0h ticks. */
TEST(the_boot_menu_times_out_across_midnight)
{
    uint8_t mbr[512];
    struct emu *e;
    struct fw_regs r;
    unsigned command = 99, first;
    memset(mbr, 0x90, sizeof mbr);
    mbr[510] = 0x55, mbr[511] = 0xAA;
    make_file("build/tests/fw_boot.img", mbr, sizeof mbr, 1 << 20);
    e = machine("-drive", "file=build/tests/fw_boot.img,format=raw", "-boot", "menu=on");
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    mem_st(e, 0x46C, 0x1800B0 - 10, 4);
    first = call(e, 0x19, &r);
    CHECK(first != FW_DONE);
    mem_st(e, 0x46C, 20, 4);
    fw_run_frame(e->firmware, &r, &command);
    CHECK_EQ(command, first);
    mem_st(e, 0x46C, 60, 4); /* 70 ticks are 3.8 s; it waits 2.5 */
    fw_run_frame(e->firmware, &r, &command);
    CHECK_EQ(command, FW_DONE);
    CHECK_EQ(r.ip, 0x7C00);
    done(e);
}

TEST(boot_failure_names_what_was_tried_and_waits_for_a_key)
{
    uint8_t blank[512];
    struct emu *e;
    struct fw_regs r;
    char text[80 * 25 + 1];
    unsigned i;
    memset(blank, 0, sizeof blank);
    make_file("build/tests/fw_blank.img", blank, sizeof blank, 1 << 20);
    e = machine("-drive", "file=build/tests/fw_blank.img,format=raw", NULL, NULL);
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    CHECK_EQ(call(e, 0x19, &r), FW_HALT);
    for (i = 0; i < 80 * 25; i++)
        text[i] = (char)mem_ld(e, 0xB8000 + 2 * i, 1);
    text[i] = 0;
    CHECK(strstr(text, "emu: no bootable device") != NULL);
    CHECK(strstr(text, "hard disk 0: no boot signature") != NULL);
    CHECK(strstr(text, "CD 0: empty") != NULL);
    done(e);
}

/* El Torito 1.0 §2: boot record volume descriptor at sector 17, catalog, default entry. media: 0 none, 2 = 1.44 MB. */
static void make_iso(const char *path, unsigned media, unsigned sectors)
{
    static uint8_t iso[64 * 2048];
    uint8_t *record = iso + 17 * 2048, *catalog = iso + 20 * 2048;
    unsigned i, s = 0;
    memset(iso, 0, sizeof iso);
    memcpy(record + 1, "CD001\001EL TORITO SPECIFICATION", 29);
    st32le(record + 0x47, 20);
    catalog[0] = 1;
    catalog[30] = 0x55, catalog[31] = 0xAA;
    for (i = 0; i < 32; i += 2)
        s += ld16le(catalog + i);
    st16le(catalog + 28, (uint16_t)(0 - s));
    catalog[32] = 0x88;
    catalog[33] = (uint8_t)media;
    st16le(catalog + 38, (uint16_t)sectors);
    st32le(catalog + 40, 22);
    for (i = 0; i < 42 * 2048; i++)
        iso[22 * 2048 + i] = (uint8_t)(0x40 + i / 512);
    if (media == 4) { /* partition 1: ends at cylinder 1, head 3, sector 17; 17 + 119 sectors */
        uint8_t *p = iso + 22 * 2048 + 446;
        memset(p, 0, 66);
        p[0] = 0x80, p[5] = 3, p[6] = 17, p[7] = 1;
        st32le(p + 8, 17), st32le(p + 12, 119);
        p[64] = 0x55, p[65] = 0xAA;
    }
    make_file(path, iso, sizeof iso, sizeof iso);
}

TEST(eltorito_without_emulation_loads_its_sectors_and_gives_the_cd_a_number)
{
    struct emu *e;
    struct fw_regs r;
    uint8_t dap[16];
    make_iso("build/tests/fw_cd0.iso", 0, 4);
    e = machine("-cdrom", "build/tests/fw_cd0.iso", NULL, NULL);
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    CHECK_EQ(call(e, 0x19, &r), FW_DONE);
    CHECK_EQ(r.ip, 0x7C00);
    CHECK_EQ(r.edx & 0xFF, 0xE0);
    CHECK_EQ(mem_ld(e, 0x7C00, 1), 0x40);
    CHECK_EQ(mem_ld(e, 0x7C00 + 4 * 512 - 1, 1), 0x43);
    /* 2048-byte sectors by EDD */
    memset(dap, 0, sizeof dap);
    dap[0] = 16, dap[2] = 1;
    st16le(dap + 6, 0x3000);
    st64le(dap + 8, 22);
    mem_write(e, 0x8000, dap, sizeof dap);
    memset(&r, 0, sizeof r);
    r.eax = 0x4200, r.edx = 0xE0, r.ds = 0x800;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(mem_ld(e, 0x30000 + 2047, 1), 0x43);
    memset(&r, 0, sizeof r);
    r.eax = 0x4B01, r.edx = 0xE0, r.ds = 0x800;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(mem_ld(e, 0x8000, 1), 0x13);
    CHECK_EQ(mem_ld(e, 0x8002, 1), 0xE0);
    CHECK_EQ(mem_ld(e, 0x8004, 4), 22);
    done(e);
}

TEST(eltorito_floppy_emulation_is_drive_zero_and_read_only)
{
    struct emu *e;
    struct fw_regs r;
    make_iso("build/tests/fw_cd2.iso", 2, 1);
    e = machine("-cdrom", "build/tests/fw_cd2.iso", NULL, NULL);
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    CHECK_EQ(call(e, 0x19, &r), FW_DONE);
    CHECK_EQ(r.edx & 0xFF, 0x00);
    memset(&r, 0, sizeof r);
    r.eax = 0x0201, r.ecx = 0x0002, r.edx = 0x0100, r.es = 0x3000; /* cylinder 0, head 1, sector 2 = 18 + 1 */
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(mem_ld(e, 0x30000, 1), 0x40 + 19);
    memset(&r, 0, sizeof r);
    r.eax = 0x0301, r.ecx = 0x0002, r.es = 0x3000;
    call(e, 0x13, &r);
    CHECK_EQ(fw_hi(r.eax), 3);
    memset(&r, 0, sizeof r);
    call(e, 0x11, &r);
    CHECK_EQ(r.eax & 1, 1); /* equipment: a floppy */
    done(e);
}

/* El Torito §2.2 media type 4: geometry from the image's partition table; a real disk moves up to 81h; 4B00h ends it. */
TEST(eltorito_disk_emulation_takes_80h_and_moves_the_real_disk_up)
{
    struct emu *e;
    struct fw_regs r;
    make_iso("build/tests/fw_cd4.iso", 4, 1);
    make_file("build/tests/fw_blank.img", (const uint8_t *)"real", 4, 1 << 20);
    e = machine("-cdrom", "build/tests/fw_cd4.iso", "-drive", "file=build/tests/fw_blank.img,format=raw");
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    CHECK_EQ(call(e, 0x19, &r), FW_DONE); /* the disk has no boot signature, so the CD is taken */
    CHECK_EQ(r.edx & 0xFF, 0x80);
    memset(&r, 0, sizeof r);
    r.eax = 0x0800, r.edx = 0x80;
    call(e, 0x13, &r);
    CHECK_EQ(fw_hi(r.edx), 3);
    CHECK_EQ(r.ecx & 0xFFFF, 0x0111);
    CHECK_EQ(r.edx & 0xFF, 2); /* two disks now */
    memset(&r, 0, sizeof r);
    r.eax = 0x0201, r.ecx = 2, r.edx = 0x80, r.es = 0x3000;
    call(e, 0x13, &r);
    CHECK_EQ(mem_ld(e, 0x30000, 1), 0x41);
    memset(&r, 0, sizeof r);
    r.eax = 0x0201, r.ecx = 1, r.edx = 0x81, r.es = 0x3000;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(mem_ld(e, 0x30000, 4), 0x6C616572);
    memset(&r, 0, sizeof r);
    r.eax = 0x4B00, r.edx = 0x80, r.ds = 0x800;
    call(e, 0x13, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    memset(&r, 0, sizeof r);
    r.eax = 0x0201, r.ecx = 1, r.edx = 0x80, r.es = 0x3000;
    call(e, 0x13, &r);
    CHECK_EQ(mem_ld(e, 0x30000, 4), 0x6C616572);
    done(e);
}

/* ---- keyboard ---- */

static unsigned press(struct emu *e, unsigned scan, bool e0)
{
    struct fw_regs r;
    unsigned last = 0, i;
    for (i = 0; i < 2; i++) { /* make, break */
        int k;
        for (k = e0 ? 0 : 1; k < 2; k++) {
            port_write(e, 0x64, 0xD2, 1); /* keyboard controller: put a byte into the keyboard's output buffer */
            port_write(e, 0x60, k ? scan | (i ? 0x80 : 0) : 0xE0, 1);
            memset(&r, 0, sizeof r);
            last = call(e, 0x09, &r);
        }
    }
    return last;
}
static unsigned key(struct emu *e, unsigned fn)
{
    struct fw_regs r;
    memset(&r, 0, sizeof r);
    r.eax = fn << 8;
    return call(e, 0x16, &r) == FW_DONE ? r.eax & 0xFFFF : 0x10000;
}
static void hold(struct emu *e, unsigned scan)
{
    struct fw_regs r;
    port_write(e, 0x64, 0xD2, 1);
    port_write(e, 0x60, scan, 1);
    memset(&r, 0, sizeof r);
    call(e, 0x09, &r);
}

/* IBM PS/2 BIOS interface, INT 16h: scan code and character of the key combinations. */
TEST(keyboard_translates_shift_ctrl_alt_and_grey_keys)
{
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    CHECK(e != NULL);
    CHECK_EQ(key(e, 0x00), 0x10000); /* nothing typed: waits */
    press(e, 0x1E, false);
    CHECK_EQ(key(e, 0x01), 0x1E61);
    CHECK_EQ(key(e, 0x00), 0x1E61); /* a */
    hold(e, 0x2A);
    press(e, 0x1E, false);
    CHECK_EQ(key(e, 0x02) & 0xFF, 0x02);
    hold(e, 0xAA);
    CHECK_EQ(key(e, 0x00), 0x1E41); /* A */
    hold(e, 0x1D);
    press(e, 0x2E, false);
    hold(e, 0x9D);
    CHECK_EQ(key(e, 0x00), 0x2E03); /* Ctrl-C */
    hold(e, 0x38);
    press(e, 0x3B, false);
    hold(e, 0xB8);
    CHECK_EQ(key(e, 0x00), 0x6800); /* Alt-F1 */
    press(e, 0x48, true);
    CHECK_EQ(key(e, 0x10), 0x48E0); /* grey up, extended read */
    press(e, 0x48, true);
    CHECK_EQ(key(e, 0x00), 0x4800); /* the same by the old read */
    press(e, 0x1C, true);
    CHECK_EQ(key(e, 0x00), 0x1C0D); /* keypad Enter */
    press(e, 0x3A, false);
    press(e, 0x1E, false);
    CHECK_EQ(key(e, 0x00), 0x1E41); /* Caps Lock */
    press(e, 0x58, false);
    CHECK_EQ(key(e, 0x10), 0x8600); /* F12 */
    done(e);
}

/* ---- video ---- */

static void int10(struct emu *e, struct fw_regs *r, unsigned ax, unsigned bx, unsigned cx, unsigned dx)
{
    memset(r, 0, sizeof *r);
    r->eax = ax, r->ebx = bx, r->ecx = cx, r->edx = dx;
    call(e, 0x10, r);
}

TEST(video_scrolls_a_screen_lower_than_a_row)
{
    static const uint16_t dispi[][2] = { { 1, 640 }, { 2, 8 }, { 3, 32 }, { 4, 0x41 } };
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    struct fw_regs r;
    unsigned i;
    CHECK(e != NULL);
    for (i = 0; i < 4; i++) {
        port_write(e, 0x1CE, dispi[i][0], 2);
        port_write(e, 0x1CF, dispi[i][1], 2);
    }
    int10(e, &r, 0x0601, 0, 0x0500, 0x0A4F);
    done(e);
}

TEST(video_text_scrolls_and_keeps_attributes)
{
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    struct fw_regs r;
    unsigned i;
    CHECK(e != NULL);
    int10(e, &r, 0x0003, 0, 0, 0);
    int10(e, &r, 0x0F00, 0, 0, 0);
    CHECK_EQ(r.eax & 0xFFFF, 0x5003);
    int10(e, &r, 0x0200, 0, 0, 0x1800); /* last row */
    int10(e, &r, 0x0941, 0x001E, 3, 0); /* AAA yellow on blue */
    CHECK_EQ(mem_ld(e, 0xB8000 + 24 * 160, 2), 0x1E41);
    CHECK_EQ(mem_ld(e, 0xB8000 + 24 * 160 + 4, 2), 0x1E41);
    int10(e, &r, 0x0E0A, 0, 0, 0); /* line feed on the last row scrolls */
    CHECK_EQ(mem_ld(e, 0xB8000 + 23 * 160, 2), 0x1E41);
    int10(e, &r, 0x0300, 0, 0, 0);
    CHECK_EQ(r.edx & 0xFFFF, 0x1800);
    int10(e, &r, 0x0701, 0x4F00, 0x0000, 0x184F); /* down by one, red */
    CHECK_EQ(mem_ld(e, 0xB8000, 2), 0x4F20);
    CHECK_EQ(mem_ld(e, 0xB8000 + 24 * 160, 2), 0x1E41);
    int10(e, &r, 0x0800, 0, 0, 0);
    CHECK_EQ(r.eax & 0xFFFF, 0x1E41);
    /* CRTC cursor address follows: row 24, column 0 */
    port_write(e, 0x3D4, 0x0E, 1);
    i = (unsigned)port_read(e, 0x3D5, 1) << 8;
    port_write(e, 0x3D4, 0x0F, 1);
    i |= (unsigned)port_read(e, 0x3D5, 1);
    CHECK_EQ(i, 24 * 80);
    /* 8x8 font: 50 rows */
    int10(e, &r, 0x1112, 0, 0, 0);
    int10(e, &r, 0x1130, 0, 0, 0);
    CHECK_EQ(r.edx & 0xFF, 49);
    CHECK_EQ(r.ecx & 0xFFFF, 8);
    int10(e, &r, 0x1A00, 0, 0, 0);
    CHECK_EQ(r.eax & 0xFF, 0x1A);
    CHECK_EQ(r.ebx & 0xFF, 8);
    done(e);
}

TEST(video_pixels_read_back_in_every_graphics_mode)
{
    static const struct { unsigned mode, x, y, colour; } cases[] = {
        { 0x04, 319, 199, 2 }, { 0x06, 639, 101, 1 }, { 0x0D, 17, 100, 11 }, { 0x0E, 639, 199, 14 }, { 0x10, 300, 349, 9 }, { 0x12, 333, 479, 13 }, { 0x13, 319, 199, 200 },
    };
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    struct fw_regs r;
    size_t i;
    CHECK(e != NULL);
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        int10(e, &r, cases[i].mode, 0, 0, 0);
        int10(e, &r, 0x0D00, 0, cases[i].x, cases[i].y);
        CHECK_EQ(r.eax & 0xFF, 0);
        int10(e, &r, 0x0C00 | cases[i].colour, 0, cases[i].x, cases[i].y);
        int10(e, &r, 0x0D00, 0, cases[i].x, cases[i].y);
        CHECK_EQ(r.eax & 0xFF, cases[i].colour);
        int10(e, &r, 0x0D00, 0, cases[i].x - 1, cases[i].y);
        CHECK_EQ(r.eax & 0xFF, 0);
        int10(e, &r, 0x0E58, 0x0001, 0, 0); /* X is drawn and recognised */
        int10(e, &r, 0x0200, 0, 0, 0);
        int10(e, &r, 0x0800, 0, 0, 0);
        CHECK_EQ(r.eax & 0xFF, 'X');
    }
    done(e);
}

/* VBE 3.0 §4.3-4.6. */
TEST(vbe_sets_a_linear_mode_at_the_address_of_bar0)
{
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    struct fw_regs r;
    uint8_t info[512], mode[256];
    uint32_t lfb, list;
    unsigned seen = 0;
    CHECK(e != NULL);
    mem_write(e, 0x10000, "VBE2", 4);
    memset(&r, 0, sizeof r);
    r.eax = 0x4F00, r.es = 0x1000;
    call(e, 0x10, &r);
    CHECK_EQ(r.eax & 0xFFFF, 0x004F);
    mem_read(e, 0x10000, info, sizeof info);
    CHECK(!memcmp(info, "VESA", 4));
    CHECK_EQ(ld16le(info + 4), 0x0300);
    CHECK_EQ(ld16le(info + 18), 256); /* 16 MiB */
    list = (uint32_t)(ld16le(info + 16) << 4) + ld16le(info + 14);
    while (mem_ld(e, list, 2) != 0xFFFF && seen < 200)
        list += 2, seen++;
    CHECK(seen > 20 && seen < 200);
    memset(&r, 0, sizeof r);
    r.eax = 0x4F01, r.ecx = 0x118, r.es = 0x1000; /* 1024x768, 24 bits */
    call(e, 0x10, &r);
    CHECK_EQ(r.eax & 0xFFFF, 0x004F);
    mem_read(e, 0x10000, mode, sizeof mode);
    CHECK_EQ(ld16le(mode) & 0x99, 0x99);
    CHECK_EQ(ld16le(mode + 16), 1024 * 3);
    CHECK_EQ(ld16le(mode + 18), 1024);
    CHECK_EQ(ld16le(mode + 20), 768);
    CHECK_EQ(mode[25], 24);
    lfb = ld32le(mode + 40);
    CHECK_EQ(lfb, ld32le(e->pci->devices[0x10]->config + 0x10) & ~15u);
    memset(&r, 0, sizeof r);
    r.eax = 0x4F02, r.ebx = 0x4144; /* 1024x768, 32 bits, linear */
    call(e, 0x10, &r);
    CHECK_EQ(r.eax & 0xFFFF, 0x004F);
    memset(&r, 0, sizeof r);
    r.eax = 0x4F03;
    call(e, 0x10, &r);
    CHECK_EQ(r.ebx & 0xFFFF, 0x4144);
    mem_st(e, lfb + 1024 * 4 * 10 + 4 * 20, 0x00123456, 4);
    CHECK_EQ(mem_ld(e, lfb + 1024 * 4 * 10 + 4 * 20, 4), 0x00123456);
    memset(&r, 0, sizeof r);
    r.eax = 0x4F06, r.ebx = 1;
    call(e, 0x10, &r);
    CHECK_EQ(r.ebx & 0xFFFF, 4096);
    memset(&r, 0, sizeof r);
    r.eax = 0x4F02, r.ebx = 0x01FE; /* no such mode */
    call(e, 0x10, &r);
    CHECK_EQ(r.eax & 0xFFFF, 0x014F);
    done(e);
}

/* An interpreter in user space runs the stub: the buffer travels through the ports (fw.h, theory). */
TEST(interpreters_get_their_buffer_through_the_port)
{
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    uint8_t buffer[512], frame[FW_FRAME_WORDS * 2];
    unsigned i, command, seg, off, count, rounds = 0;
    CHECK(e != NULL);
    memset(frame, 0, sizeof frame);
    memset(buffer, 0, sizeof buffer);
    memcpy(buffer, "VBE2", 4);
    st16le(frame + 4, 0x5000);      /* ES */
    st32le(frame + 8, 0x0010);      /* EDI */
    st32le(frame + 36, 0x4F00);     /* EAX */
    st16le(frame + 40, 0x10);
    e->cpus[0]->mode = MODE_LONG;
    port_write(e, FW_PORT_BEGIN, 0, 1);
    for (i = 0; i < FW_FRAME_WORDS; i++)
        port_write(e, FW_PORT_FRAME, ld16le(frame + 2 * i), 2);
    do {
        command = (unsigned)port_read(e, FW_PORT_RUN, 2) & 0xFF;
        for (i = 0; i < FW_FRAME_WORDS; i++)
            st16le(frame + 2 * i, (uint16_t)port_read(e, FW_PORT_FRAME, 2));
        if (command == FW_FETCH || command == FW_STORE) {
            seg = (unsigned)port_read(e, FW_PORT_PARAM, 2);
            off = (unsigned)port_read(e, FW_PORT_PARAM, 2);
            count = (unsigned)port_read(e, FW_PORT_PARAM, 2);
            CHECK_EQ(seg, 0x5000);
            CHECK_EQ(off, 0x10);
            CHECK(count <= sizeof buffer);
            for (i = 0; i < count; i++)
                if (command == FW_FETCH)
                    port_write(e, FW_PORT_DATA, buffer[i], 1);
                else
                    buffer[i] = (uint8_t)port_read(e, FW_PORT_DATA, 1);
        }
    } while (command != FW_DONE && ++rounds < 10);
    CHECK_EQ(rounds, 2);
    CHECK_EQ(ld16le(frame + 36), 0x004F);
    CHECK(!memcmp(buffer, "VESA", 4));
    CHECK_EQ(ld16le(buffer + 4), 0x0300);
    CHECK_EQ(mem_ld(e, 0x50010, 4), 0); /* not written behind the interpreter's back */
    e->cpus[0]->mode = MODE_REAL;
    done(e);
}

/* ---- clock, PCI BIOS ---- */

TEST(clock_and_ticks_agree_with_the_rtc)
{
    struct emu *e = machine("-rtc", "base=2024-02-29T13:45:10", NULL, NULL);
    struct fw_regs r;
    uint32_t ticks;
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    r.eax = 0x0200;
    call(e, 0x1A, &r);
    CHECK_EQ(r.ecx & 0xFFFF, 0x1345);
    r.eax = 0x0400;
    call(e, 0x1A, &r);
    CHECK_EQ(r.ecx & 0xFFFF, 0x2024);
    CHECK_EQ(r.edx & 0xFFFF, 0x0229);
    r.eax = 0;
    call(e, 0x1A, &r);
    ticks = (r.ecx & 0xFFFF) << 16 | (r.edx & 0xFFFF);
    CHECK(ticks / 18.2065 > 13 * 3600 + 45 * 60 + 8 && ticks / 18.2065 < 13 * 3600 + 45 * 60 + 20);
    memset(&r, 0, sizeof r);
    call(e, 0x08, &r);
    CHECK_EQ(mem_ld(e, 0x46C, 4), ticks + 1);
    done(e);
}

TEST(pci_bios_finds_devices_and_lines_are_assigned)
{
    struct emu *e = machine(NULL, NULL, NULL, NULL);
    struct fw_regs r;
    CHECK(e != NULL);
    memset(&r, 0, sizeof r);
    r.eax = 0xB101;
    call(e, 0x1A, &r);
    CHECK_EQ(r.flags & FW_CF, 0);
    CHECK_EQ(r.edx, 0x20494350);
    memset(&r, 0, sizeof r);
    r.eax = 0xB102, r.ecx = 0x7113, r.edx = 0x8086;
    call(e, 0x1A, &r);
    CHECK_EQ(r.ebx & 0xFFFF, 0x000B);
    r.eax = 0xB10A, r.edi = 0x40;
    call(e, 0x1A, &r);
    CHECK_EQ(r.ecx & 0xFFC1, 0x0601); /* power management base, enabled */
    r.eax = 0xB108, r.edi = 0x3C;
    call(e, 0x1A, &r);
    CHECK_EQ(r.ecx & 0xFF, 9);
    memset(&r, 0, sizeof r);
    r.eax = 0xB103, r.ecx = 0x030000;
    call(e, 0x1A, &r);
    CHECK_EQ(r.ebx & 0xFFFF, 0x0010);
    memset(&r, 0, sizeof r);
    r.eax = 0xB102, r.ecx = 0xDEAD, r.edx = 0xBEEF;
    call(e, 0x1A, &r);
    CHECK_EQ(fw_hi(r.eax), 0x86);
    done(e);
}

/* As the guest's own driver and other BIOSes count them, whatever the order of the options. */
TEST(disks_are_numbered_by_their_place_on_the_ide_channels)
{
    static const char *const argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-m", "64M", "-drive", "file=build/tests/fw_a.img,format=raw,if=none,id=a",
                                        "-drive", "file=build/tests/fw_b.img,format=raw,if=none,id=b", "-device", "ide-hd,drive=a,bus=ide.1,unit=1", "-device", "ide-hd,drive=b,bus=ide.0,unit=0" };
    static const uint8_t blank[512] = { 0 };
    struct emu *e = emu_new(NULL);
    struct fw *fw;
    make_file("build/tests/fw_a.img", blank, sizeof blank, 1 << 20);
    make_file("build/tests/fw_b.img", blank, sizeof blank, 1 << 20);
    CHECK(e != NULL);
    CHECK_EQ(emu_configure(e, (int)(sizeof argv / sizeof *argv), argv, why, sizeof why), 0);
    board_reset(e);
    e->current_cpu = e->cpus[0];
    fw_post(e->firmware);
    fw = e->firmware;
    fw_boot_list(fw);
    CHECK_EQ(fw->disk_count, 2);
    CHECK(!strcmp(fw->drives[0].blk->id, "b") && !strcmp(fw->drives[1].blk->id, "a"));
    done(e);
}

/* ---- tables ---- */

static uint32_t scan(struct emu *e, const char *signature, uint32_t from, uint32_t to)
{
    uint8_t b[16];
    for (; from < to; from += 16) {
        mem_read(e, from, b, sizeof b);
        if (!memcmp(b, signature, strlen(signature)))
            return from;
    }
    return 0;
}

/* Where the table of that signature is, by the RSDT; 0: nowhere. */
static uint32_t fw_acpi_table(struct emu *e, const char *signature)
{
    uint32_t rsdp = scan(e, "RSD PTR ", 0xE0000, 0x100000), rsdt = rsdp ? (uint32_t)mem_ld(e, rsdp + 16, 4) : 0, i;
    char name[4];
    for (i = 36; rsdt && i < mem_ld(e, rsdt + 4, 4); i += 4) {
        mem_read(e, mem_ld(e, rsdt + i, 4), name, 4);
        if (!memcmp(name, signature, 4))
            return (uint32_t)mem_ld(e, rsdt + i, 4);
    }
    return 0;
}

/* QEMU's bootindex: the lowest goes first whatever its slot, and is drive 80h for who boots from it. */
TEST(bootindex_of_a_device_orders_drives)
{
    static const char *const argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-m", "64M", "-drive", "file=build/tests/fw_a.img,format=raw,if=none,id=a",
                                        "-drive", "file=build/tests/fw_b.img,format=raw,if=none,id=b", "-drive", "file=build/tests/fw_c.img,format=raw,if=none,id=c",
                                        "-device", "ide-hd,drive=a,bus=ide.0,unit=0", "-device", "ide-hd,drive=b,bus=ide.0,unit=1,bootindex=7",
                                        "-device", "ide-hd,drive=c,bus=ide.1,unit=1,bootindex=2" };
    static const uint8_t blank[512] = { 0 };
    struct emu *e = emu_new(NULL);
    struct fw *fw;
    make_file("build/tests/fw_a.img", blank, sizeof blank, 1 << 20);
    make_file("build/tests/fw_b.img", blank, sizeof blank, 1 << 20);
    make_file("build/tests/fw_c.img", blank, sizeof blank, 1 << 20);
    CHECK(e != NULL);
    CHECK_EQ(emu_configure(e, (int)(sizeof argv / sizeof *argv), argv, why, sizeof why), 0);
    board_reset(e);
    e->current_cpu = e->cpus[0];
    fw_post(e->firmware);
    fw = e->firmware;
    fw_boot_list(fw);
    CHECK(fw->boot_count >= 3);
    CHECK(!strcmp(fw->boot[0].drive->blk->id, "c"));
    CHECK(!strcmp(fw->boot[1].drive->blk->id, "b"));
    CHECK_EQ(fw->disk_count, 3);
    CHECK(!strcmp(fw->drives[0].blk->id, "c") && !strcmp(fw->drives[1].blk->id, "b") && !strcmp(fw->drives[2].blk->id, "a"));
    done(e);
}

/* ACPI 6 §5.2.5-5.2.12: found by scanning, every checksum 0, FADT and MADT describe this machine. */
TEST(acpi_tables_are_found_by_scanning_and_sum_to_zero)
{
    struct emu *e = machine("-smp", "3", NULL, NULL);
    static uint8_t t[65536];
    uint8_t rsdp[36];
    uint32_t at, rsdt, n, i, len, fadt = 0, madt = 0, lapics = 0, dsdt;
    FILE *f;
    CHECK(e != NULL);
    at = scan(e, "RSD PTR ", 0xE0000, 0x100000);
    CHECK(at != 0);
    mem_read(e, at, rsdp, sizeof rsdp);
    CHECK_EQ(sum(rsdp, 20), 0);
    CHECK_EQ(sum(rsdp, 36), 0);
    rsdt = ld32le(rsdp + 16);
    mem_read(e, rsdt, t, 4096);
    CHECK(!memcmp(t, "RSDT", 4));
    len = ld32le(t + 4);
    CHECK_EQ(sum(t, len), 0);
    n = (len - 36) / 4;
    CHECK_EQ(n, 3);
    for (i = 0; i < n; i++) {
        uint32_t gpa = (uint32_t)mem_ld(e, rsdt + 36 + 4 * i, 4);
        static uint8_t table[4096];
        mem_read(e, gpa, table, sizeof table);
        CHECK_EQ(sum(table, ld32le(table + 4)), 0);
        if (!memcmp(table, "FACP", 4))
            fadt = gpa;
        if (!memcmp(table, "APIC", 4))
            madt = gpa;
    }
    CHECK(fadt && madt);
    CHECK_EQ(mem_ld(e, fadt + 46, 2), 9);
    CHECK_EQ(mem_ld(e, fadt + 56, 4), 0x600);
    CHECK_EQ(mem_ld(e, fadt + 64, 4), 0x604);
    CHECK_EQ(mem_ld(e, fadt + 76, 4), 0x608);
    CHECK_EQ(mem_ld(e, fadt + 108, 1), 0x32);
    CHECK_EQ(mem_ld(e, fadt + 36, 4) % 64, 0); /* FACS */
    dsdt = (uint32_t)mem_ld(e, fadt + 40, 4);
    CHECK_EQ(mem_ld(e, fadt + 140, 8), dsdt);
    len = (uint32_t)mem_ld(e, madt + 4, 4);
    for (i = 44; i < len; i += (uint32_t)mem_ld(e, madt + i + 1, 1))
        lapics += mem_ld(e, madt + i, 1) == 0;
    CHECK_EQ(lapics, 3);
    len = (uint32_t)mem_ld(e, dsdt + 4, 4);
    CHECK(len > 36 && len < sizeof t);
    mem_read(e, dsdt, t, len);
    CHECK_EQ(sum(t, len), 0);
    f = fopen("build/tests/fw_dsdt.aml", "wb");
    CHECK(f != NULL);
    fwrite(t, 1, len, f);
    fclose(f);
    done(e);
    if (system("command -v iasl >/dev/null 2>&1") != 0) {
        printf("skip iasl: not installed (acpica-tools); byte code not disassembled\n");
        return;
    }
    CHECK_EQ(system("cd build/tests && iasl -d fw_dsdt.aml >fw_iasl.log 2>&1 && grep -q 'Device (PCI0)' fw_dsdt.dsl && iasl -tc fw_dsdt.dsl >>fw_iasl.log 2>&1 && "
                    "grep -q '0 Errors' fw_iasl.log"),
             0);
}

/* DSP0134 §5.2.1, MP specification §4.1, PCI IRQ routing table 1.0. */
TEST(smbios_mp_and_pir_tables_sum_to_zero)
{
    struct emu *e = machine("-uuid", "00112233-4455-6677-8899-aabbccddeeff", "-smp", "2");
    uint8_t b[64];
    static uint8_t t[65536];
    uint32_t at, table, len;
    static const uint8_t uuid[16] = { 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF };
    unsigned i, type1 = 0;
    CHECK(e != NULL);
    at = scan(e, "_SM_", 0xF0000, 0x100000);
    CHECK(at != 0);
    mem_read(e, at, b, 31);
    CHECK_EQ(sum(b, 31), 0);
    CHECK_EQ(sum(b + 16, 15), 0);
    table = ld32le(b + 24), len = ld16le(b + 22);
    mem_read(e, table, t, len);
    for (i = 0; i + 4 <= len;) {
        unsigned k = i + t[i + 1];
        if (t[i] == 1) {
            type1++;
            CHECK(!memcmp(t + i + 8, uuid, 16));
        }
        while (k + 1 < len && (t[k] || t[k + 1]))
            k++;
        if (t[i] == 127)
            break;
        i = k + 2;
    }
    CHECK_EQ(type1, 1);
    CHECK_EQ(i + 6, len);
    at = scan(e, "_MP_", 0xF0000, 0x100000);
    CHECK(at != 0);
    mem_read(e, at, b, 16);
    CHECK_EQ(sum(b, 16), 0);
    table = ld32le(b + 4);
    mem_read(e, table, t, 44);
    CHECK(!memcmp(t, "PCMP", 4));
    len = ld16le(t + 4);
    mem_read(e, table, t, len);
    CHECK_EQ(sum(t, len), 0);
    CHECK_EQ(t[44 + 3], 3);      /* boot processor, enabled */
    CHECK_EQ(t[44 + 20 + 3], 1); /* second, enabled */
    at = scan(e, "$PIR", 0xF0000, 0x100000);
    CHECK(at != 0);
    mem_read(e, at, t, 1024);
    CHECK_EQ(sum(t, ld16le(t + 6)), 0);
    done(e);
}

/* ---- loader ---- */

static void multiboot_elf(uint8_t *k, uint32_t paddr, uint32_t offset, uint32_t filesz, uint32_t memsz)
{
    memset(k, 0, 8192);
    memcpy(k, "\177ELF\1\1\1", 7);
    st16le(k + 16, 2), st16le(k + 18, 3), st32le(k + 20, 1);
    st32le(k + 24, 0x100020); /* entry */
    st32le(k + 28, 52);
    st16le(k + 40, 52), st16le(k + 42, 32), st16le(k + 44, 1);
    st32le(k + 52, 1);
    st32le(k + 56, offset);
    st32le(k + 60, paddr), st32le(k + 64, paddr);
    st32le(k + 68, filesz), st32le(k + 72, memsz);
    st32le(k + 4096, 0x1BADB002), st32le(k + 4100, 3), st32le(k + 4104, 0 - (0x1BADB002u + 3));
}

/* -no-acpi and -machine acpi=off: no root pointer and no power management function; hpet=off: no HPET table, and nothing behind its address. */
TEST(tables_and_chips_that_are_switched_off_are_not_there)
{
    static const char *const off[][4] = { { "-no-acpi", NULL, "-no-hpet", NULL }, { "-machine", "pc,acpi=off", "-M", "pc,hpet=off" } };
    unsigned i;
    for (i = 0; i < 2; i++) {
        struct emu *e = machine(off[i][0], off[i][1], NULL, NULL);
        CHECK(e != NULL);
        CHECK_EQ(scan(e, "RSD PTR ", 0xE0000, 0x100000), 0);
        port_write(e, 0xCF8, 0x80000B00, 4); /* 00:01.3 */
        CHECK_EQ(port_read(e, 0xCFC, 4), 0xFFFFFFFF);
        CHECK_EQ(mem_ld(e, 0xFED00000, 4), 0x8086A201);
        done(e);
        e = machine(off[i][2], off[i][3], NULL, NULL);
        CHECK(e != NULL);
        CHECK(scan(e, "RSD PTR ", 0xE0000, 0x100000) != 0);
        port_write(e, 0xCF8, 0x80000B00, 4);
        CHECK_EQ(port_read(e, 0xCFC, 4), 0x71138086);
        CHECK(mem_ld(e, 0xFED00000, 4) != 0x8086A201);
        CHECK_EQ(fw_acpi_table(e, "HPET"), 0);
        done(e);
    }
}

/* SMBIOS 2.8 sections 7.1, 7.2 and 7.4: strings of types 0, 1 and 3, counted from 1, behind the formatted area; the UUID is at 08h of type 1. */
TEST(smbios_strings_are_those_of_the_command_line)
{
    static const char *const argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-m", "64M",
        "-smbios", "type=0,vendor=V0,version=N0,date=01/02/2003",
        "-smbios", "type=1,manufacturer=M1,product=P1,version=N1,serial=S1,sku=K1,family=F1,uuid=00112233-4455-6677-8899-aabbccddeeff",
        "-smbios", "type=3,manufacturer=M3" };
    static const struct {
        uint8_t type, at; /* where the string's number is */
        const char *text;
    } wanted[] = { { 0, 4, "V0" }, { 0, 5, "N0" }, { 0, 8, "01/02/2003" }, { 1, 4, "M1" }, { 1, 5, "P1" }, { 1, 6, "N1" }, { 1, 7, "S1" },
        { 1, 25, "K1" }, { 1, 26, "F1" }, { 3, 4, "M3" } };
    static uint8_t t[65536];
    uint8_t b[32];
    struct emu *e = emu_new(NULL);
    uint32_t at, len, i;
    size_t w, found = 0;
    CHECK(e != NULL);
    CHECK_EQ(emu_configure(e, (int)(sizeof argv / sizeof *argv), argv, why, sizeof why), 0);
    board_reset(e);
    e->current_cpu = e->cpus[0];
    fw_post(e->firmware);
    at = scan(e, "_SM_", 0xF0000, 0x100000);
    CHECK(at != 0);
    mem_read(e, at, b, 31);
    len = ld16le(b + 22);
    mem_read(e, ld32le(b + 24), t, len);
    for (i = 0; i + 4 <= len && t[i] != 127;) {
        uint32_t strings = i + t[i + 1], k;
        for (w = 0; w < sizeof wanted / sizeof *wanted; w++)
            if (wanted[w].type == t[i]) {
                unsigned n = t[i + wanted[w].at];
                for (k = strings; n > 1; n--)
                    k += (uint32_t)strlen((char *)t + k) + 1;
                CHECK(n == 1 && !strcmp((char *)t + k, wanted[w].text));
                found++;
            }
        if (t[i] == 1)
            CHECK(t[i + 8] == 0x33 && t[i + 15] == 0x66 && t[i + 16] == 0x88 && t[i + 23] == 0xFF);
        for (k = strings; t[k] || t[k + 1]; k++) {
        }
        i = k + 2;
    }
    CHECK_EQ(found, sizeof wanted / sizeof *wanted);
    done(e);
}

/* docs/specs/fw_cfg: selector port 510h, data port 511h; the directory, 19h, is a big-endian count and entries of 64 bytes: size, key, 2 reserved, name. */
TEST(fw_cfg_files_of_the_command_line_are_read_by_the_guest)
{
    static const char *const argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-m", "64M",
        "-fw_cfg", "name=opt/test/text,string=hello",
        "-fw_cfg", "opt/test/file,file=build/tests/fw_file.bin" };
    static const uint8_t content[4] = { 1, 0, 255, 10 };
    struct emu *e = emu_new(NULL);
    unsigned found = 0, n, i, k;
    CHECK(e != NULL);
    make_file("build/tests/fw_file.bin", content, sizeof content, 0);
    CHECK_EQ(emu_configure(e, (int)(sizeof argv / sizeof *argv), argv, why, sizeof why), 0);
    e->current_cpu = e->cpus[0];
    port_write(e, 0x510, 0x19, 2);
    for (n = 0, i = 0; i < 4; i++)
        n = n << 8 | (unsigned)port_read(e, 0x511, 1);
    CHECK(n >= 2 && n < 200);
    for (i = 0; i < n; i++) {
        uint8_t entry[65] = { 0 };
        const uint8_t *want;
        port_write(e, 0x510, 0x19, 2);
        for (k = 0; k < 4 + 64 * i; k++)
            port_read(e, 0x511, 1);
        for (k = 0; k < 64; k++)
            entry[k] = (uint8_t)port_read(e, 0x511, 1);
        if (strncmp((char *)entry + 8, "opt/test/", 9))
            continue;
        found++;
        want = entry[8 + 9] == 't' ? (const uint8_t *)"hello" : content;
        CHECK_EQ(entry[0] << 24 | entry[1] << 16 | entry[2] << 8 | entry[3], want == content ? 4 : 5);
        port_write(e, 0x510, (uint64_t)entry[4] << 8 | entry[5], 2);
        for (k = 0; k < entry[3]; k++)
            CHECK_EQ(port_read(e, 0x511, 1), want[k]);
        CHECK_EQ(port_read(e, 0x511, 1), 0);
    }
    CHECK_EQ(found, 2);
    done(e);
}

/* QEMU's -boot: order= for every start, once= for the first only, strict=on for nothing else; boot_set from the next reset on. SeaBIOS reads the first
 * and the second device from the halves of CMOS 3Dh: 1 floppy, 2 hard disk, 3 CD. */
TEST(boot_order_letters_once_strict_and_boot_set)
{
    static const struct {
        const char *option, *first, *second; /* what is tried, at the first and at the second start: F floppy, C disk, D CD */
        unsigned cmos_first, cmos_second;
    } rows[] = { { "d", "DFC", "DFC", 0x03, 0x03 }, { "order=ac", "FCD", "FCD", 0x21, 0x21 }, { "order=c,once=d", "DFC", "CFD", 0x03, 0x02 },
        { "order=dc,strict=on", "DC", "DC", 0x23, 0x23 },
        { "a,strict=on", "F", "F", 0x01, 0x01 } };
    char tried[2][8], reply[100];
    unsigned i, k, round, cmos[2];
    static const uint8_t blank[512] = { 0 };
    make_file("build/tests/fw_a.img", blank, sizeof blank, 1 << 20);
    make_file("build/tests/fw_b.img", blank, sizeof blank, 1440 * 1024);
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-m", "64M", "-boot", NULL,
            "-drive", "file=build/tests/fw_a.img,format=raw", "-drive", "file=build/tests/fw_b.img,format=raw,if=floppy" };
        struct emu *e = emu_new(NULL);
        argv[9] = rows[i].option;
        CHECK(e != NULL);
        CHECK_EQ(emu_configure(e, (int)(sizeof argv / sizeof *argv), argv, why, sizeof why), 0);
        e->current_cpu = e->cpus[0];
        for (round = 0; round < 3; round++) {
            struct fw *fw = e->firmware;
            unsigned at = round < 2 ? round : 1;
            if (round)
                board_reset(e);
            fw_post(fw);
            fw_boot_list(fw);
            for (k = 0; k < fw->boot_count && k < 7; k++)
                tried[at][k] = fw->boot[k].kind == FW_DRIVE_FLOPPY ? 'F' : fw->boot[k].kind == FW_DRIVE_DISK ? 'C' : 'D';
            tried[at][fw->boot_count < 7 ? fw->boot_count : 7] = 0;
            port_write(e, 0x70, 0x3D, 1);
            cmos[at] = (unsigned)port_read(e, 0x71, 1);
        }
        if (strcmp(tried[0], rows[i].first) || strcmp(tried[1], rows[i].second))
            printf("-boot %s: %s, then %s\n", rows[i].option, tried[0], tried[1]);
        CHECK(!strcmp(tried[0], rows[i].first) && !strcmp(tried[1], rows[i].second));
        CHECK_EQ(cmos[0], rows[i].cmos_first);
        CHECK_EQ(cmos[1], rows[i].cmos_second);
        CHECK_EQ(emu_monitor(e, "boot_set xyz", reply, sizeof reply), 0);
        CHECK(strstr(reply, "boot_set: needs letters"));
        CHECK_EQ(emu_monitor(e, "boot_set a", reply, sizeof reply), 0);
        CHECK(!reply[0]);
        board_reset(e);
        fw_post(e->firmware);
        fw_boot_list(e->firmware);
        CHECK_EQ(((struct fw *)e->firmware)->boot[0].kind, FW_DRIVE_FLOPPY);
        port_write(e, 0x70, 0x3D, 1);
        CHECK_EQ(port_read(e, 0x71, 1), 1);
        done(e);
    }
}

/* ATA-5 table 28: serial number in words 10 to 19, model in 27 to 46, two characters a word, the first in the upper half. */
TEST(disks_tell_the_serial_number_and_model_of_the_command_line)
{
    static const char *const argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-m", "64M",
        "-drive", "file=build/tests/fw_a.img,format=raw,if=ide,serial=ABC-1",
        "-drive", "file=build/tests/fw_b.img,format=raw,if=none,id=b", "-device", "ide-hd,drive=b,bus=ide.0,unit=1,serial=XYZ,model=A disk of mine" };
    static const uint8_t blank[512] = { 0 };
    struct emu *e = emu_new(NULL);
    unsigned unit, i;
    make_file("build/tests/fw_a.img", blank, sizeof blank, 1 << 20);
    make_file("build/tests/fw_b.img", blank, sizeof blank, 1 << 20);
    CHECK(e != NULL);
    CHECK_EQ(emu_configure(e, (int)(sizeof argv / sizeof *argv), argv, why, sizeof why), 0);
    e->current_cpu = e->cpus[0];
    for (unit = 0; unit < 2; unit++) {
        char text[512];
        port_write(e, 0x1F6, 0xA0 | unit << 4, 1);
        port_write(e, 0x1F7, 0xEC, 1); /* IDENTIFY DEVICE */
        for (i = 0; i < 512; i += 2) {
            unsigned word = (unsigned)port_read(e, 0x1F0, 2);
            text[i] = (char)(word >> 8), text[i + 1] = (char)word;
        }
        CHECK(!memcmp(text + 20, unit ? "XYZ                 " : "ABC-1               ", 20));
        CHECK(!unit || !memcmp(text + 54, "A disk of mine                          ", 40));
    }
    done(e);
}

TEST(multiboot_kernel_is_loaded_with_map_command_line_and_modules)
{
    static uint8_t k[8192];
    struct emu *e;
    uint32_t info, mods, at;
    char text[64];
    multiboot_elf(k, 0x100000, 4096, 4096, 8192);
    k[4096 + 0x20] = 0xF4;
    make_file("build/tests/fw_mb.elf", k, sizeof k, sizeof k);
    make_file("build/tests/fw_mod.bin", (const uint8_t *)"module!", 7, 7);
    e = machine("-kernel", "build/tests/fw_mb.elf", "-initrd", "build/tests/fw_mod.bin one two");
    CHECK(e != NULL);
    CHECK_EQ(mem_ld(e, 0x100000, 4), 0x1BADB002);
    CHECK_EQ(mem_ld(e, 0x101000, 8), 0);
    info = 0x9500;
    CHECK_EQ(mem_ld(e, info, 4) & 0x4F, 0x4F);
    CHECK_EQ(mem_ld(e, info + 4, 4), 639);
    CHECK_EQ(mem_ld(e, info + 20, 4), 1);
    mods = (uint32_t)mem_ld(e, info + 24, 4);
    at = (uint32_t)mem_ld(e, mods, 4);
    CHECK_EQ(at % 4096, 0);
    mem_read(e, at, text, 7);
    CHECK(!memcmp(text, "module!", 7));
    CHECK_EQ(mem_ld(e, mods + 4, 4) - at, 7);
    mem_read(e, mem_ld(e, mods + 8, 4), text, 31);
    CHECK(!strncmp(text, "build/tests/fw_mod.bin one two", 31));
    CHECK_EQ(mem_ld(e, FW_LOADER_CODE, 1), 0xFA);
    done(e);
}

TEST(damaged_kernels_are_refused_with_a_reason)
{
    static uint8_t k[8192];
    struct emu *e = emu_new(NULL);
    const char *argv[] = { "-display", "none", "-m", "64M", "-kernel", "build/tests/fw_bad.elf" };
    memset(k, 0x11, sizeof k);
    make_file("build/tests/fw_bad.elf", k, sizeof k, sizeof k);
    CHECK(emu_configure(e, 6, argv, why, sizeof why) != 0);
    CHECK(strstr(why, "neither a Linux image nor") != NULL);
    emu_destroy(e);
    /* a segment that points behind the file, and one that lies above RAM: the machine starts, the loader says why not */
    multiboot_elf(k, 0x100000, 4096, 0x7FFFFFFF, 0x7FFFFFFF);
    make_file("build/tests/fw_bad.elf", k, sizeof k, sizeof k);
    e = machine("-kernel", "build/tests/fw_bad.elf", NULL, NULL);
    CHECK(e != NULL);
    {
        struct err err;
        CHECK(loader_load(e, &err) != 0);
        CHECK(strstr(err.text, "outside of the file") != NULL);
        done(e);
        multiboot_elf(k, 0x7F000000, 4096, 4096, 4096);
        make_file("build/tests/fw_bad.elf", k, sizeof k, sizeof k);
        e = machine("-kernel", "build/tests/fw_bad.elf", NULL, NULL);
        CHECK(e != NULL);
        CHECK(loader_load(e, &err) != 0);
        CHECK(strstr(err.text, "-m") != NULL);
    }
    done(e);
}

/* Documentation/arch/x86/boot.rst: 32-bit boot protocol, zero page. */
TEST(linux_gets_a_zero_page_with_e820_initrd_and_command_line)
{
    static uint8_t k[16384];
    struct emu *e;
    uint32_t initrd;
    char text[16];
    memset(k, 0, sizeof k);
    k[0x1F1] = 4;
    st16le(k + 0x1FE, 0xAA55);
    k[0x200] = 0xEB, k[0x201] = 0x66;
    memcpy(k + 0x202, "HdrS", 4);
    st16le(k + 0x206, 0x020C);
    k[0x211] = 1;
    st32le(k + 0x214, 0x100000);
    st32le(k + 0x22C, 0x7FFFFFFF);
    st16le(k + 0x236, 1); /* XLF_KERNEL_64 */
    st32le(k + 0x238, 2047);
    memset(k + 2560, 0xCC, 16);
    make_file("build/tests/fw_linux.bin", k, sizeof k, sizeof k);
    make_file("build/tests/fw_mod.bin", (const uint8_t *)"module!", 7, 7);
    e = machine("-kernel", "build/tests/fw_linux.bin", "-initrd", "build/tests/fw_mod.bin");
    CHECK(e != NULL);
    CHECK_EQ(mem_ld(e, 0x100000, 8), UINT64_C(0xCCCCCCCCCCCCCCCC));
    CHECK_EQ(mem_ld(e, 0x10000 + 0x1E8, 1), ((struct fw *)e->firmware)->e820_count);
    CHECK_EQ(mem_ld(e, 0x10000 + 0x2D0 + 8, 8), 0x9FC00);
    CHECK_EQ(mem_ld(e, 0x10000 + 0x210, 1), 0xFF);
    CHECK_EQ(mem_ld(e, 0x10000 + 0x21C, 4), 7);
    initrd = (uint32_t)mem_ld(e, 0x10000 + 0x218, 4);
    mem_read(e, initrd, text, 7);
    CHECK(!memcmp(text, "module!", 7));
    CHECK(initrd + 7 <= 64 * MIB - 0x20000);
    CHECK_EQ(mem_ld(e, 0x10000 + 0x70, 8), scan(e, "RSD PTR ", 0xE0000, 0x100000));
    done(e);
}

TEST_MAIN(TEST_CASE(rom_has_reset_vector_and_fixed_entry_points), TEST_CASE(fonts_have_ink_where_letters_are_and_frames_reach_the_edges),
          TEST_CASE(e820_is_ordered_and_agrees_with_the_older_calls), TEST_CASE(int13_reads_the_same_sector_by_chs_and_by_lba), TEST_CASE(int13_translates_large_disks),
          TEST_CASE(boot_takes_a_signed_sector_to_7c00_with_its_drive_in_dl), TEST_CASE(the_boot_menu_times_out_across_midnight), TEST_CASE(boot_failure_names_what_was_tried_and_waits_for_a_key),
          TEST_CASE(eltorito_without_emulation_loads_its_sectors_and_gives_the_cd_a_number), TEST_CASE(eltorito_floppy_emulation_is_drive_zero_and_read_only),
          TEST_CASE(eltorito_disk_emulation_takes_80h_and_moves_the_real_disk_up),
          TEST_CASE(keyboard_translates_shift_ctrl_alt_and_grey_keys), TEST_CASE(video_scrolls_a_screen_lower_than_a_row), TEST_CASE(video_text_scrolls_and_keeps_attributes),
          TEST_CASE(video_pixels_read_back_in_every_graphics_mode), TEST_CASE(vbe_sets_a_linear_mode_at_the_address_of_bar0),
          TEST_CASE(interpreters_get_their_buffer_through_the_port), TEST_CASE(clock_and_ticks_agree_with_the_rtc), TEST_CASE(pci_bios_finds_devices_and_lines_are_assigned),
          TEST_CASE(disks_are_numbered_by_their_place_on_the_ide_channels), TEST_CASE(bootindex_of_a_device_orders_drives), TEST_CASE(acpi_tables_are_found_by_scanning_and_sum_to_zero), TEST_CASE(smbios_mp_and_pir_tables_sum_to_zero),
          TEST_CASE(tables_and_chips_that_are_switched_off_are_not_there), TEST_CASE(smbios_strings_are_those_of_the_command_line),
          TEST_CASE(fw_cfg_files_of_the_command_line_are_read_by_the_guest), TEST_CASE(boot_order_letters_once_strict_and_boot_set),
          TEST_CASE(disks_tell_the_serial_number_and_model_of_the_command_line),
          TEST_CASE(multiboot_kernel_is_loaded_with_map_command_line_and_modules), TEST_CASE(damaged_kernels_are_refused_with_a_reason),
          TEST_CASE(linux_gets_a_zero_page_with_e820_initrd_and_command_line))
