/* fw/bios.c - the built-in BIOS: ROM image, the way from a stub to a service, power-on self test.
 *
 * Models     the IBM PC/AT BIOS interface as later BIOSes kept it: fixed entry points in segment F000h, BIOS data area at 400h,
 *            extended BIOS data area below 640 KiB. Services are in bios_disk.c, bios_video.c and bios_misc.c.
 * Contract   machine.h: firmware_create(), firmware_reset(), firmware_destroy(). fw.h tells how a stub and a service talk.
 * Theory     fw_build_rom() writes the machine code, byte by byte, into a 128 KiB image that lies at E0000h and below 4 GiB. The reset
 *            vector jumps to F000:E05B, which reads FW_PORT_POST. That read runs the whole power-on self test in C: chipset, PCI,
 *            shadow RAM, tables, vectors, video. Then the stub does INT 19h, or jumps to what loader.c wrote.
 *
 *                 INT n -> stub: push n -> common: PUSHAD.. -> OUTSW frame -> IN run -> INSW frame -> command
 *                                   ^                                                                  |
 *                                   +------- again <- STI,HLT | call vector | call mouse handler <-----+--> IRET
 *                                                                                 fetch, store -> IN run
 * Invariants those of fw.h.
 * Missing    SMM, PnP BIOS, the 32-bit PCI BIOS entry, option ROMs of cards.
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "../dev/dev.h"
#include "fw.h"

/* ================= guest memory as the caller of the BIOS sees it ================= */

/* Linear to physical, and how many bytes stay in that page. */
static uint64_t fw_translate(struct fw *fw, uint32_t lin, size_t *size)
{
    uint64_t gpa = lin;
    size_t room = 0x1000 - (lin & 0xFFF);
    if (!fw->paged)
        return lin;
    if (*size > room)
        *size = room;
    if (!cpu_debug_translate(fw->emu->current_cpu, lin, &gpa))
        return lin;
    return gpa;
}

EMU_PRIV void fw_read(struct fw *fw, uint32_t lin, void *buf, size_t size)
{
    uint8_t *p = buf;
    while (size) {
        size_t n = size;
        uint64_t gpa = fw_translate(fw, lin, &n);
        mem_read(fw->emu, gpa, p, n);
        p += n, lin += (uint32_t)n, size -= n;
    }
}

EMU_PRIV void fw_write(struct fw *fw, uint32_t lin, const void *buf, size_t size)
{
    const uint8_t *p = buf;
    while (size) {
        size_t n = size;
        uint64_t gpa = fw_translate(fw, lin, &n);
        mem_write(fw->emu, gpa, p, n);
        p += n, lin += (uint32_t)n, size -= n;
    }
}

EMU_PRIV uint8_t fw_ld8(struct fw *fw, uint32_t lin)
{
    uint8_t b;
    fw_read(fw, lin, &b, 1);
    return b;
}
EMU_PRIV uint16_t fw_ld16(struct fw *fw, uint32_t lin)
{
    uint8_t b[2];
    fw_read(fw, lin, b, 2);
    return ld16le(b);
}
EMU_PRIV uint32_t fw_ld32(struct fw *fw, uint32_t lin)
{
    uint8_t b[4];
    fw_read(fw, lin, b, 4);
    return ld32le(b);
}
EMU_PRIV uint32_t fw_ticks_since(struct fw *fw, uint32_t start)
{
    uint32_t now = fw_ld32(fw, BDA_TICKS);
    return now >= start ? now - start : now + FW_TICKS_PER_DAY - start;
}
EMU_PRIV void fw_st8(struct fw *fw, uint32_t lin, unsigned v)
{
    uint8_t b = (uint8_t)v;
    fw_write(fw, lin, &b, 1);
}
EMU_PRIV void fw_st16(struct fw *fw, uint32_t lin, unsigned v)
{
    uint8_t b[2];
    st16le(b, (uint16_t)v);
    fw_write(fw, lin, b, 2);
}
EMU_PRIV void fw_st32(struct fw *fw, uint32_t lin, uint32_t v)
{
    uint8_t b[4];
    st32le(b, v);
    fw_write(fw, lin, b, 4);
}

EMU_PRIV bool fw_user_read(struct fw *fw, uint16_t seg, uint16_t off, void *buf, size_t size)
{
    if (!fw->relay || seg >= 0xC000) {
        fw_read(fw, ((uint32_t)seg << 4) + off, buf, size);
        return true;
    }
    if (fw->fetch_got >= size && fw->fetch_seg == seg && fw->fetch_off == off && size <= sizeof fw->fetched) {
        memcpy(buf, fw->fetched, size);
        return true;
    }
    memset(buf, 0, size);
    fw->fetch_wanted = true;
    fw->fetch_seg = seg;
    fw->fetch_off = off;
    fw->fetch_size = (uint32_t)EMU_MIN(size, sizeof fw->fetched);
    return false;
}

EMU_PRIV void fw_user_write(struct fw *fw, uint16_t seg, uint16_t off, const void *buf, size_t size)
{
    struct fw_store *s;
    if (!fw->relay) {
        fw_write(fw, ((uint32_t)seg << 4) + off, buf, size);
        return;
    }
    if (fw->store_count == EMU_ARRAY_LEN(fw->stores) || !size || size > 0xFFFF)
        return;
    s = &fw->stores[fw->store_count++];
    s->seg = seg;
    s->off = off;
    s->size = (uint32_t)size;
    s->at = fw->relay_out.size;
    buf_add(&fw->relay_out, buf, size);
}

/* ================= small helpers ================= */

EMU_PRIV unsigned fw_outb(struct fw *fw, unsigned port, unsigned value)
{
    port_write(fw->emu, (uint16_t)port, value & 0xFF, 1);
    return value;
}
EMU_PRIV uint8_t fw_inb(struct fw *fw, unsigned port) { return (uint8_t)port_read(fw->emu, (uint16_t)port, 1); }

/* CMOS by its ports, with the NMI bit clear, as a BIOS does. */
EMU_PRIV uint8_t fw_cmos(struct fw *fw, unsigned index)
{
    fw_outb(fw, 0x70, index & 0x7F);
    return fw_inb(fw, 0x71);
}
EMU_PRIV void fw_cmos_set(struct fw *fw, unsigned index, unsigned value)
{
    fw_outb(fw, 0x70, index & 0x7F);
    fw_outb(fw, 0x71, value);
}

EMU_PRIV void fw_eoi(struct fw *fw, unsigned irq)
{
    if (irq >= 8)
        fw_outb(fw, 0xA0, 0x20);
    fw_outb(fw, 0x20, 0x20);
}

EMU_PRIV uint8_t fw_checksum(const uint8_t *p, size_t size)
{
    uint8_t sum = 0;
    while (size--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)(0 - sum);
}

EMU_PRIV unsigned fw_wait(struct fw *fw) { return fw->halt_ok ? FW_HALT : FW_POLL; }

EMU_PRIV void fw_set_vector(struct fw *fw, unsigned vector, uint16_t seg, uint16_t off)
{
    fw_st16(fw, vector * 4, off);
    fw_st16(fw, vector * 4 + 2, seg);
}

EMU_PRIV bool fw_vector_is_ours(struct fw *fw, unsigned vector)
{
    return fw_ld16(fw, vector * 4 + 2) == 0xF000 && fw_ld16(fw, vector * 4) == fw_default_vector(vector);
}

EMU_PRIV uint32_t fw_table_low(struct fw *fw, const void *data, size_t size, unsigned align)
{
    uint32_t at = (fw->tables_low_at + align - 1) / align * align;
    if (at + size > FW_TABLES_LOW_END)
        return 0;
    mem_write(fw->emu, at, data, size);
    fw->tables_low_at = at + (uint32_t)size;
    return at;
}

EMU_PRIV void fw_print(struct fw *fw, const char *text)
{
    while (*text)
        fw_video_teletype(fw, (uint8_t)*text++);
}

/* On COM1 by polling; a port that is missing reads FFh and takes everything. */
EMU_PRIV void fw_print_serial(struct fw *fw, const char *text)
{
    uint16_t port = fw_ld16(fw, BDA_COM_PORTS);
    if (!port)
        return;
    for (; *text; text++)
        fw_outb(fw, port, (uint8_t)*text);
}

/* ================= the ROM image ================= */

struct fw_emit {
    uint8_t *rom;
    uint32_t at;
};
static void fw_emit1(struct fw_emit *o, unsigned b) { o->rom[o->at++] = (uint8_t)b; }
static void fw_emit2(struct fw_emit *o, unsigned v)
{
    fw_emit1(o, v);
    fw_emit1(o, v >> 8);
}
/* n bytes given as text of hex digits; spaces are skipped. */
static void fw_emit_hex(struct fw_emit *o, const char *hex)
{
    static const char digits[] = "0123456789ABCDEF";
    unsigned v = 0, n = 0;
    for (; *hex; hex++) {
        const char *d = strchr(digits, *hex);
        if (!d)
            continue;
        v = v << 4 | (unsigned)(d - digits);
        if (++n % 2 == 0) {
            fw_emit1(o, v);
            v = 0;
        }
    }
}
/* A jump with a 16-bit displacement to `target`, a ROM offset: E9h for JMP, 0F84h for JZ... */
static void fw_emit_near(struct fw_emit *o, unsigned opcode, uint32_t target)
{
    if (opcode > 0xFF)
        fw_emit1(o, opcode >> 8);
    fw_emit1(o, opcode);
    fw_emit2(o, target - (o->at + 2));
}

#define FW_SEG_F 0x10000u /* ROM offset of F000:0000 */
enum fw_rom_code {
    FW_CODE_COMMON = 0xD000, /* of segment F000h */
    FW_CODE_IRQ_LOW = 0xD200,
    FW_CODE_IRQ_HIGH = 0xD206,
    FW_CODE_INT18 = 0xD230,
    FW_CODE_INT70 = 0xD212,
    FW_CODE_IRQ9 = 0xD218,
    FW_CODE_INT74 = 0xD21E,
    FW_CODE_INT75 = 0xD224,
    FW_CODE_IRET = 0xFF53,
    FW_CODE_POST = 0xE05B,
    FW_CODE_MODEL_TABLE = 0xE6F5,
    FW_CODE_FONT8 = 0xFA6E,
    FW_CODE_DISKETTE_TABLE = 0xEFC7
};

/* Entry points that programs jump to directly: IBM PC/AT technical reference. */
static const struct fw_entry {
    uint8_t vector;
    uint16_t offset;
    uint8_t service; /* FW_SERVICE_NONE: not a plain stub */
} fw_entries[] = {
    { 0x02, 0xE2C3, 0x02 },          { 0x08, 0xFEA5, 0x08 },           { 0x09, 0xE987, 0x09 },
    { 0x0E, 0xEF57, 0x0E },          { 0x10, 0xF065, 0x10 },           { 0x11, 0xF84D, 0x11 },
    { 0x12, 0xF841, 0x12 },          { 0x13, 0xE3FE, 0x13 },           { 0x14, 0xE739, 0x14 },
    { 0x15, 0xF859, 0x15 },          { 0x16, 0xE82E, 0x16 },           { 0x17, 0xEFD2, 0x17 },
    { 0x18, FW_CODE_INT18, FW_SERVICE_NONE }, { 0x19, 0xE6F2, FW_SERVICE_NONE }, { 0x1A, 0xFE6E, 0x1A },
    { 0x40, 0xEC59, 0x13 },          { 0x70, FW_CODE_INT70, 0x70 },    { 0x71, FW_CODE_IRQ9, FW_SERVICE_IRQ9 },
    { 0x74, FW_CODE_INT74, 0x74 },   { 0x75, FW_CODE_INT75, 0x75 },
    { 0x0A, FW_CODE_IRQ_LOW, FW_SERVICE_IRQ_LOW },
    { 0x0B, FW_CODE_IRQ_LOW, FW_SERVICE_IRQ_LOW },  { 0x0C, FW_CODE_IRQ_LOW, FW_SERVICE_IRQ_LOW },
    { 0x0D, FW_CODE_IRQ_LOW, FW_SERVICE_IRQ_LOW },  { 0x0F, FW_CODE_IRQ_LOW, FW_SERVICE_IRQ_LOW },
    { 0x72, FW_CODE_IRQ_HIGH, FW_SERVICE_IRQ_HIGH }, { 0x73, FW_CODE_IRQ_HIGH, FW_SERVICE_IRQ_HIGH },
    { 0x76, FW_CODE_IRQ_HIGH, FW_SERVICE_IRQ_HIGH }, { 0x77, FW_CODE_IRQ_HIGH, FW_SERVICE_IRQ_HIGH },
    { 0x1D, 0xF0A4, FW_SERVICE_NONE }, { 0x1E, FW_CODE_DISKETTE_TABLE, FW_SERVICE_NONE },
};

EMU_PRIV uint16_t fw_default_vector(unsigned vector)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(fw_entries); i++)
        if (fw_entries[i].vector == vector)
            return fw_entries[i].offset;
    if (vector < 0x60 || (vector >= 0x68 && vector < 0x78))
        return FW_CODE_IRET;
    return 0; /* 60h-67h and 78h up are the user's: null */
}

/* The path that every stub joins, with the service number pushed. ORDER fw_command. */
static void fw_rom_common(struct fw_emit *o)
{
    uint32_t again, relay, patch[FW_LAST_COMMAND + 1], call_return;
    unsigned i;
    o->at = FW_SEG_F + FW_CODE_COMMON;
    fw_emit_hex(o, "66 60"           /* pushad */
                   "1E 06 0F A0 0F A8" /* push ds, es, fs, gs */
                   "FC");            /* cld */
    again = o->at;
    fw_emit1(o, 0xBA), fw_emit2(o, FW_PORT_BEGIN); /* mov dx, BEGIN */
    fw_emit_hex(o, "EE"              /* out dx, al */
                   "42 42"           /* inc dx, inc dx: FRAME */
                   "16 1F"           /* push ss; pop ds */
                   "89 E6");         /* mov si, sp */
    fw_emit1(o, 0xB9), fw_emit2(o, FW_FRAME_WORDS); /* mov cx, n */
    fw_emit_hex(o, "F3 6F");         /* rep outsw */
    relay = o->at;
    fw_emit1(o, 0xBA), fw_emit2(o, FW_PORT_RUN);
    fw_emit_hex(o, "ED"              /* in ax, dx */
                   "4A 4A"           /* dec dx, dec dx: FRAME */
                   "16 07"           /* push ss; pop es */
                   "89 E7");         /* mov di, sp */
    fw_emit1(o, 0xB9), fw_emit2(o, FW_FRAME_WORDS);
    fw_emit_hex(o, "F3 6D"           /* rep insw */
                   "08 C0"           /* or al, al */
                   "75 0C"           /* jnz other */
                   "0F A9 0F A1 07 1F" /* pop gs, fs, es, ds */
                   "66 61"           /* popad */
                   "83 C4 02 CF");   /* add sp, 2: the service number; iret restores the flags */
    fw_emit1(o, 0xBA), fw_emit2(o, FW_PORT_PARAM); /* other: mov dx, PARAM */
    for (i = FW_HALT; i <= FW_LAST_COMMAND; i++) {
        fw_emit_hex(o, "FE C8 0F 84"); /* dec al; jz near command i */
        patch[i] = o->at;
        fw_emit2(o, 0);
    }
    fw_emit_near(o, 0xE9, again);
#define FW_LAND(command) \
    (o->rom[patch[command]] = (uint8_t)(o->at - patch[command] - 2), \
     o->rom[patch[command] + 1] = (uint8_t)((o->at - patch[command] - 2) >> 8))
    FW_LAND(FW_HALT);
    fw_emit_hex(o, "FB F4 FA FC"); /* sti; hlt; cli; cld */
    fw_emit_near(o, 0xE9, again);
    FW_LAND(FW_POLL);
    fw_emit_hex(o, "FB 90 90 FA FC");
    fw_emit_near(o, 0xE9, again);
    FW_LAND(FW_CALL);
    fw_emit_hex(o, "88 E3 B7 00"    /* mov bl, ah; mov bh, 0 */
                   "C1 E3 02"       /* shl bx, 2 */
                   "31 C9 8E C1"    /* xor cx, cx; mov es, cx */
                   "6A 40 1F"       /* push 40h; pop ds */
                   "9C 26 FF 1F"    /* pushf; call far es:[bx] */
                   "FA FC");        /* cli; cld */
    fw_emit_near(o, 0xE9, again);
    FW_LAND(FW_FETCH);
    fw_emit_hex(o, "ED 8E D8"       /* in ax, dx; mov ds, ax */
                   "ED 89 C6"       /* in ax, dx; mov si, ax */
                   "ED 89 C1"       /* in ax, dx; mov cx, ax */
                   "4A 4A"          /* dx = DATA */
                   "F3 6E");        /* rep outsb */
    fw_emit_near(o, 0xE9, relay);
    FW_LAND(FW_STORE);
    fw_emit_hex(o, "ED 8E C0"       /* es */
                   "ED 89 C7"       /* di */
                   "ED 89 C1"       /* cx */
                   "4A 4A"
                   "F3 6C");        /* rep insb */
    fw_emit_near(o, 0xE9, relay);
    FW_LAND(FW_CALL_AX);
    fw_emit_hex(o, "31 C9 8E C1"    /* es = 0 */
                   "ED 89 C3"       /* bx = vector * 4 */
                   "ED"             /* ax */
                   "6A 40 1F"       /* ds = 40h */
                   "F9 9C"          /* stc; pushf */
                   "26 FF 1F"       /* call far es:[bx] */
                   "9C FA FC 5B");  /* pushf; cli; cld; pop bx */
    fw_emit1(o, 0xBA), fw_emit2(o, FW_PORT_PARAM);
    fw_emit_hex(o, "EF 93 EF");     /* out dx, ax; xchg ax, bx; out dx, ax */
    fw_emit_near(o, 0xE9, again);
    FW_LAND(FW_CALL_MOUSE);
    fw_emit_hex(o, "ED 50 ED 50 ED 50 ED 50" /* status, x, y, z */
                   "0E 68");        /* push cs; push return offset */
    call_return = o->at;
    fw_emit2(o, 0);
    fw_emit_hex(o, "ED 50 ED 50"    /* handler's segment, offset */
                   "CB");           /* retf: jump there */
    st16le(o->rom + call_return, (uint16_t)(o->at - FW_SEG_F));
    fw_emit_hex(o, "83 C4 08 FA FC"); /* add sp, 8; cli; cld */
    fw_emit_near(o, 0xE9, again);
#undef FW_LAND
}

static void fw_rom_stub(struct fw_emit *o, uint16_t offset, unsigned service)
{
    o->at = FW_SEG_F + offset;
    fw_emit1(o, 0x68), fw_emit2(o, service); /* push service */
    fw_emit_near(o, 0xE9, FW_SEG_F + FW_CODE_COMMON);
}

/* Reset: POST in C, then boot, resume or the loader's code. */
static void fw_rom_post(struct fw_emit *o)
{
    unsigned i;
    o->at = FW_SEG_F + FW_CODE_POST;
    fw_emit_hex(o, "FA FC BA"), fw_emit2(o, FW_PORT_POST); /* cli; cld; mov dx, POST */
    fw_emit_hex(o, "ED"             /* in ax, dx */
                   "3C 01 74 14"    /* cmp al, 1: resume */
                   "3C 02 74 19"    /* cmp al, 2: loader */
                   "31 C0 8E D0"    /* ss = 0 */
                   "BC 00 7C"       /* sp = 7C00h */
                   "8E D8 8E C0"    /* ds = es = 0 */
                   "FB CD 19"       /* sti; int 19h */
                   "90 90"
                   "B8 40 00 8E D8" /* resume: ds = 40h */
                   "FF 2E 67 00"    /* jmp far [0067h] */
                   "EA"), fw_emit2(o, FW_LOADER_CODE & 0xFFFF), fw_emit2(o, 0xF000); /* loader: jmp far */
    /* INT 18h and 19h take a stack of their own and make the frame of an interrupt there. */
    o->at = FW_SEG_F + 0xE6F2;
    fw_emit_near(o, 0xE9, FW_SEG_F + 0xE0A0);
    for (i = 0; i < 2; i++) {
        o->at = FW_SEG_F + (i ? FW_CODE_INT18 : 0xE0A0u);
        fw_emit_hex(o, "FA 31 C0 8E D0 BC 00 7C" /* cli; ss:sp = 0:7C00h */
                       "9C 0E 50 6A"); /* pushf; push cs; push ax; push 19h or 18h */
        fw_emit1(o, i ? 0x18 : 0x19);
        fw_emit_near(o, 0xE9, FW_SEG_F + FW_CODE_COMMON);
    }
    o->at = FW_SEG_F + 0xFFF0;
    fw_emit_hex(o, "EA"), fw_emit2(o, FW_CODE_POST), fw_emit2(o, 0xF000);
}

/* INT 15h/C0h: model FCh (AT), second PIC, RTC, keyboard intercept, EBDA, INT 16h/09h. */
static const uint8_t fw_model_table[10] = { 8, 0, 0xFC, 0, 1, 0x74, 0x40, 0, 0, 0 };
/* INT 1Eh: 1.44 MB diskette parameters. */
static const uint8_t fw_diskette_table[11] = { 0xAF, 0x02, 0x25, 0x02, 0x12, 0x1B, 0xFF, 0x6C, 0xF6, 0x0F, 0x08 };
/* INT 1Dh: 6845 registers of 40x25, 80x25, graphics and monochrome text, then regen lengths, columns, modes. */
static const uint8_t fw_video_table[88] = {
    0x38, 0x28, 0x2D, 0x0A, 0x1F, 0x06, 0x19, 0x1C, 0x02, 0x07, 0x06, 0x07, 0, 0, 0, 0,
    0x71, 0x50, 0x5A, 0x0A, 0x1F, 0x06, 0x19, 0x1C, 0x02, 0x07, 0x06, 0x07, 0, 0, 0, 0,
    0x38, 0x28, 0x2D, 0x0A, 0x7F, 0x06, 0x64, 0x70, 0x02, 0x01, 0x06, 0x07, 0, 0, 0, 0,
    0x61, 0x50, 0x52, 0x0F, 0x19, 0x06, 0x19, 0x19, 0x02, 0x0D, 0x0B, 0x0C, 0, 0, 0, 0,
    0x00, 0x08, 0x00, 0x10, 0x00, 0x40, 0x00, 0x40,
    0x28, 0x28, 0x50, 0x50, 0x28, 0x28, 0x50, 0x50,
    0x2C, 0x28, 0x2D, 0x29, 0x2A, 0x2E, 0x1E, 0x29,
};

EMU_PRIV void fw_build_rom(uint8_t rom[FW_ROM_BYTES])
{
    struct fw_emit o;
    uint8_t font[256 * 8];
    size_t i;
    memset(rom, 0, FW_ROM_BYTES);
    o.rom = rom;
    o.at = 0;
    fw_rom_common(&o);
    for (i = 0; i < EMU_ARRAY_LEN(fw_entries); i++)
        if (fw_entries[i].service != FW_SERVICE_NONE)
            fw_rom_stub(&o, fw_entries[i].offset, fw_entries[i].service);
    fw_rom_post(&o);
    rom[FW_SEG_F + FW_CODE_IRET] = 0xCF;
    memcpy(rom + FW_SEG_F + FW_CODE_MODEL_TABLE, fw_model_table, sizeof fw_model_table);
    memcpy(rom + FW_SEG_F + FW_CODE_DISKETTE_TABLE, fw_diskette_table, sizeof fw_diskette_table);
    memcpy(rom + FW_SEG_F + 0xF0A4, fw_video_table, sizeof fw_video_table);
    font_render(font, 8);
    memcpy(rom + FW_SEG_F + FW_CODE_FONT8, font, 128 * 8);
    memcpy(rom + FW_SEG_F + 0xFFF5, "06/23/99", 8);
    rom[FW_SEG_F + 0xFFFE] = 0xFC;
}
#undef FW_SEG_F

/* ================= from the frame to the service ================= */

static unsigned fw_irq_unexpected(struct fw *fw, struct fw_regs *r)
{
    unsigned service = fw_lo(r->service), base = service == FW_SERVICE_IRQ_LOW ? 0x20 : 0xA0, isr;
    fw_outb(fw, base, 0x0B); /* in-service register */
    isr = fw_inb(fw, base);
    if (service == FW_SERVICE_IRQ_HIGH) {
        if (isr)
            fw_outb(fw, 0xA0, 0x20);
        fw_outb(fw, 0x20, 0x20);
    } else if (isr)
        fw_outb(fw, 0x20, 0x20);
    return FW_DONE;
}

static unsigned fw_dispatch(struct fw *fw, struct fw_regs *r)
{
    if (fw_lo(r->service) == 0x10 || fw_lo(r->service) == 0x13)
        fw->key_nap.polls = 0; /* whoever draws or reads is at work */
    switch (fw_lo(r->service)) {
    case 0x02: return FW_DONE; /* NMI */
    case 0x08: return fw_int08(fw, r);
    case 0x09: return fw_int09(fw, r);
    case 0x0E: return fw_int0e(fw, r);
    case 0x10: return fw_int10(fw, r);
    case 0x11: return fw_int11(fw, r);
    case 0x12: return fw_int12(fw, r);
    case 0x13: return fw_int13(fw, r);
    case 0x14: return fw_int14(fw, r);
    case 0x15: return fw_int15(fw, r);
    case 0x16: return fw_int16(fw, r);
    case 0x17: return fw_int17(fw, r);
    case 0x18: return fw_int18(fw, r);
    case 0x19: return fw_int19(fw, r);
    case 0x1A: return fw_int1a(fw, r);
    case 0x70: return fw_int70(fw, r);
    case 0x74: return fw_int74(fw, r);
    case 0x75: /* IRQ 13: coprocessor error, for the NMI handler as on the PC */
        if (fw_phase(r) == 0) {
            fw_outb(fw, 0xF0, 0);
            fw_eoi(fw, 13);
            fw_set_phase(r, 1);
            return FW_CALL | 2u << 8;
        }
        return FW_DONE;
    case FW_SERVICE_IRQ9: /* IRQ 9 goes on as INT 0Ah, which owns the EOI of the first controller */
        if (fw_phase(r) == 0 && !fw_vector_is_ours(fw, 0x0A)) {
            fw_outb(fw, 0xA0, 0x20);
            fw_set_phase(r, 1);
            return FW_CALL | 0x0Au << 8;
        }
        if (fw_phase(r) == 0)
            fw_eoi(fw, 9);
        return FW_DONE;
    default: return fw_irq_unexpected(fw, r);
    }
}

EMU_PRIV void fw_run_frame(struct fw *fw, struct fw_regs *r, unsigned *command)
{
    struct cpu *cpu = fw->emu->current_cpu;
    unsigned mode = cpu ? cpu->mode : MODE_REAL;
    fw->paged = mode == MODE_V86 && (cpu->cr0 & CR0_PG);
    fw->relay = mode != MODE_V86 && mode != MODE_REAL;
    fw->halt_ok = mode == MODE_REAL;
    fw->fetch_wanted = false;
    fw->store_count = fw->store_next = 0;
    fw->relay_out.size = 0;
    *command = fw_dispatch(fw, r);
}

static void fw_frame_decode(const uint8_t *b, struct fw_regs *r)
{
    r->gs = ld16le(b), r->fs = ld16le(b + 2), r->es = ld16le(b + 4), r->ds = ld16le(b + 6);
    r->edi = ld32le(b + 8), r->esi = ld32le(b + 12), r->ebp = ld32le(b + 16), r->state = ld32le(b + 20);
    r->ebx = ld32le(b + 24), r->edx = ld32le(b + 28), r->ecx = ld32le(b + 32), r->eax = ld32le(b + 36);
    r->service = ld16le(b + 40), r->ip = ld16le(b + 42), r->cs = ld16le(b + 44), r->flags = ld16le(b + 46);
}
static void fw_frame_encode(const struct fw_regs *r, uint8_t *b)
{
    st16le(b, r->gs), st16le(b + 2, r->fs), st16le(b + 4, r->es), st16le(b + 6, r->ds);
    st32le(b + 8, r->edi), st32le(b + 12, r->esi), st32le(b + 16, r->ebp), st32le(b + 20, r->state);
    st32le(b + 24, r->ebx), st32le(b + 28, r->edx), st32le(b + 32, r->ecx), st32le(b + 36, r->eax);
    st16le(b + 40, r->service), st16le(b + 42, r->ip), st16le(b + 44, r->cs), st16le(b + 46, r->flags);
}

/* Next piece of user memory that the stub is to write, or the command that waited for them. */
static unsigned fw_next_store(struct fw *fw)
{
    struct fw_store *s;
    if (fw->store_next == fw->store_count || fw->relay_out.failed) {
        fw->held = false;
        return fw->held_command;
    }
    s = &fw->stores[fw->store_next++];
    fw->store_at = s->at;
    fw->store_end = s->at + s->size;
    fw->params[0] = s->seg;
    fw->params[1] = s->off;
    fw->params[2] = (uint16_t)s->size;
    fw->param_at = 0;
    return FW_STORE;
}

static unsigned fw_run(struct fw *fw)
{
    struct fw_regs r;
    unsigned command;
    fw->frame_at = 0;
    if (fw->held)
        return fw_next_store(fw);
    fw_frame_decode(fw->frame, &r);
    fw_run_frame(fw, &r, &command);
    if (fw->fetch_wanted) { /* nothing has happened yet: the same frame runs again */
        fw->fetch_got = 0;
        fw->params[0] = fw->fetch_seg;
        fw->params[1] = fw->fetch_off;
        fw->params[2] = (uint16_t)fw->fetch_size;
        fw->param_at = 0;
        return FW_FETCH;
    }
    fw_frame_encode(&r, fw->frame);
    if (fw->store_count) {
        fw->held = true;
        fw->held_command = command;
        return fw_next_store(fw);
    }
    return command;
}

static uint64_t fw_port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct fw *fw = opaque;
    unsigned v = 0xFFFF;
    (void)size;
    switch (offset + FW_PORT_BASE) {
    case FW_PORT_FRAME:
        if (fw->frame_at < FW_FRAME_WORDS)
            v = ld16le(fw->frame + 2 * fw->frame_at++);
        break;
    case FW_PORT_RUN:
        v = fw_run(fw);
        break;
    case FW_PORT_DATA:
        if (fw->store_at < fw->store_end)
            v = fw->relay_out.data[fw->store_at++];
        break;
    case FW_PORT_PARAM:
        if (fw->param_at < EMU_ARRAY_LEN(fw->params))
            v = fw->params[fw->param_at++];
        break;
    case FW_PORT_POST:
        v = fw_post(fw);
        break;
    default: break;
    }
    return v;
}

static void fw_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct fw *fw = opaque;
    (void)size;
    switch (offset + FW_PORT_BASE) {
    case FW_PORT_BEGIN:
        fw->frame_at = 0;
        fw->fetch_got = 0;
        fw->held = false;
        break;
    case FW_PORT_FRAME:
        if (fw->frame_at < FW_FRAME_WORDS)
            st16le(fw->frame + 2 * fw->frame_at++, (uint16_t)value);
        break;
    case FW_PORT_DATA:
        if (fw->fetch_got < sizeof fw->fetched)
            fw->fetched[fw->fetch_got++] = (uint8_t)value;
        break;
    case FW_PORT_PARAM:
        fw->results[fw->result_at++ & 1] = (uint16_t)value;
        break;
    default: break;
    }
}

static const struct region_ops fw_port_ops = { fw_port_read, fw_port_write, 1, 2, true };

/* ================= power-on self test ================= */

/* Chipset registers that QEMU's pc has after its firmware; 82441FX, PIIX3 and PIIX4 data sheets. */
static void fw_post_chipset(struct fw *fw)
{
    struct pci_bus *bus = fw->emu->pci;
    struct pci_device *host = bus ? bus->devices[0] : NULL;
    unsigned i;
    for (i = 0; i < fw->emu->cpu_count; i++)
        cpu_set_mtrrs(fw->emu->cpus[i]);
    if (host && ld16le(host->config) == 0x8086)
        for (i = 0x59; i <= 0x5F; i++) /* PAM: all of C0000h-FFFFFh reads and writes RAM */
            port_write(fw->emu, 0xCF8, 0x80000000u | (i & 0xFC), 4), port_write(fw->emu, (uint16_t)(0xCFC + (i & 3)), i == 0x59 ? 0x30 : 0x33, 1);
}

static void fw_post_shadow_done(struct fw *fw)
{
    /* C0000-C7FFF read only (video ROM), F0000-FFFFF read only: as after any PC firmware. */
    struct pci_bus *bus = fw->emu->pci;
    if (!bus || !bus->devices[0] || ld16le(bus->devices[0]->config) != 0x8086)
        return;
    port_write(fw->emu, 0xCF8, 0x80000058u, 4);
    port_write(fw->emu, 0xCFD, 0x10, 1);
    port_write(fw->emu, 0xCFE, 0x11, 1);
}

static void fw_post_interrupts(struct fw *fw)
{
    static const uint8_t master[] = { 0x11, 0x08, 0x04, 0x01 }, slave[] = { 0x11, 0x70, 0x02, 0x01 };
    unsigned i;
    for (i = 0; i < 4; i++) {
        fw_outb(fw, i ? 0x21 : 0x20, master[i]);
        fw_outb(fw, i ? 0xA1 : 0xA0, slave[i]);
    }
    fw_outb(fw, 0x21, 0xB8); /* open: timer, keyboard, cascade, floppy */
    fw_outb(fw, 0xA1, 0xEE); /* open: RTC, mouse */
    for (i = 0; i < 256; i++) {
        uint16_t off = fw_default_vector(i);
        fw_set_vector(fw, i, off ? 0xF000 : 0, off);
    }
    fw_outb(fw, 0x43, 0x34); /* channel 0: rate generator, 65536 */
    fw_outb(fw, 0x40, 0);
    fw_outb(fw, 0x40, 0);
    fw_outb(fw, 0x43, 0x54); /* channel 1: DRAM refresh of old */
    fw_outb(fw, 0x41, 0x12);
    /* DMA: second controller cascades the first */
    fw_outb(fw, 0x0D, 0);
    fw_outb(fw, 0xDA, 0);
    fw_outb(fw, 0xD6, 0xC0);
    fw_outb(fw, 0xD4, 0);
}

/* Local APIC of the boot CPU in virtual wire mode: MP specification 1.4 §3.6.2.2. */
static void fw_post_apic(struct fw *fw)
{
    struct emu *e = fw->emu;
    if (e->current_cpu && (e->current_cpu->apic_base & 0x800)) {
        uint64_t base = e->current_cpu->apic_base & ~UINT64_C(0xFFF);
        mem_st(e, base + 0xF0, 0x1FF, 4);
        mem_st(e, base + 0x350, 0x700, 4); /* LINT0: ExtINT */
        mem_st(e, base + 0x360, 0x400, 4); /* LINT1: NMI */
    }
}

static void fw_post_bda(struct fw *fw)
{
    struct emu *e = fw->emu;
    uint8_t zero[256];
    unsigned equipment = 0x26 | 0x0002; /* 80x25 colour, coprocessor, PS/2 mouse */
    memset(zero, 0, sizeof zero);
    mem_write(e, 0x400, zero, 0x100);
    for (unsigned i = 0; i < 4; i++)
        mem_write(e, FW_EBDA + i * 256, zero, 256);
    fw_st8(fw, FW_EBDA, 1); /* KiB */
    fw_st16(fw, BDA_EBDA_SEGMENT, FW_EBDA_SEGMENT);
    fw_st16(fw, BDA_MEMORY_KIB, 639);
    fw_st16(fw, BDA_EQUIPMENT, equipment);
}

/* Warm start as the AT defined it: CMOS shutdown byte 0Fh. Returns true where the resume vector is to be taken. */
static bool fw_post_shutdown_code(struct fw *fw)
{
    unsigned code = fw_cmos(fw, 0x0F);
    fw_cmos_set(fw, 0x0F, 0);
    if (code == 0x05) { /* EOI, then jump */
        fw_inb(fw, 0x60);
        fw_eoi(fw, 8);
        return true;
    }
    return code == 0x0A;
}

EMU_PRIV void fw_build_e820(struct fw *fw)
{
    struct emu *e = fw->emu;
    struct fw_e820 *m = fw->e820;
    uint64_t low = e->ram_below_4g, high = e->ram ? e->ram->size_bytes - EMU_MIN(low, e->ram->size_bytes) : 0;
    unsigned n = 0;
#define FW_E820(from, to, kind) (m[n].base = (from), m[n].size = (to) - (from), m[n].type = (kind), n++)
    FW_E820(UINT64_C(0), UINT64_C(0x9FC00), E820_RAM);
    FW_E820(UINT64_C(0x9FC00), UINT64_C(0xA0000), E820_RESERVED);
    FW_E820(UINT64_C(0xF0000), UINT64_C(0x100000), E820_RESERVED);
    if (low > 0x100000) {
        if (fw->tables_high > 0x100000)
            FW_E820(UINT64_C(0x100000), fw->tables_high, E820_RAM);
        FW_E820(fw->tables_high, low, E820_RESERVED);
    }
    FW_E820(UINT64_C(0xFEFFC000), UINT64_C(0xFF000000), E820_RESERVED);
    FW_E820(UINT64_C(0xFFFC0000), UINT64_C(0x100000000), E820_RESERVED);
    if (high)
        FW_E820(UINT64_C(0x100000000), UINT64_C(0x100000000) + high, E820_RAM);
#undef FW_E820
    fw->e820_count = n;
}

enum { FW_HIGH_BYTES = 0x20000 }; /* reserved below top of RAM for ACPI tables, as QEMU's guests see */

EMU_PRIV unsigned fw_post(struct fw *fw)
{
    struct emu *e = fw->emu;
    char line[80];
    fw->paged = fw->relay = false;
    fw->halt_ok = true;
    if (fw_post_shutdown_code(fw))
        return FW_POST_RESUME;
    chipset_set_a20(e, true);
    fw_post_chipset(fw);
    if (fw->rom)
        mem_write(e, FW_ROM_BASE, fw->rom->bytes, FW_ROM_BYTES);
    fw->tables_low_at = FW_TABLES_LOW;
    fw->tables_high = e->ram_below_4g > 0x100000 + FW_HIGH_BYTES ? e->ram_below_4g - FW_HIGH_BYTES : e->ram_below_4g;
    fw->eltorito.active = false;
    fw->boot_next = 0;
    fw_post_bda(fw);
    fw_post_interrupts(fw);
    fw_post_apic(fw);
    pcisetup_run(fw);
    fw_build_e820(fw);
    fw_serial_init(fw);
    fw_kbd_init(fw);
    fw_clock_init(fw);
    fw_disk_init(fw);
    fw_video_init(fw);
    pir_install(fw);
    mptable_install(fw);
    smbios_install(fw);
    if (!e->config.no_acpi)
        acpi_install(fw);
    snprintf(line, sizeof line, "emu %s BIOS, %u MiB\r\n\r\n", EMU_VERSION, (unsigned)(e->config.ram_bytes >> 20));
    fw_print(fw, line);
    fw_boot_list(fw);
    if (fw->loader) {
        struct err err;
        err.text[0] = 0;
        if (loader_load(e, &err) == 0) {
            fw_post_shadow_done(fw);
            return FW_POST_LOADER;
        }
        emu_log(e, LOG_NOTICE, "%s", err.text);
        fw_print(fw, err.text);
        emu_exit_with(e, 1); /* nobody asked for another system */
    }
    fw_post_shadow_done(fw);
    return FW_POST_BOOT;
}

/* ================= life ================= */

static int fw_map_rom(struct fw *fw, uint64_t size, struct err *err)
{
    struct emu *e = fw->emu;
    uint64_t low = EMU_MIN(size, (uint64_t)FW_ROM_BYTES);
    int rc;
    region_init_ram(&fw->rom_low, "isa-bios", fw->rom, size - low, low);
    region_init_ram(&fw->rom_high, "bios", fw->rom, 0, size);
    rc = region_add(e, &e->memory, &fw->rom_low, 0x100000 - low, MAP_PRIO_ROM);
    if (!rc)
        rc = region_add(e, &e->memory, &fw->rom_high, UINT64_C(0x100000000) - size, MAP_PRIO_ROM);
    return rc ? err_set(err, rc, "firmware: out of memory") : 0;
}

/* Looks for a firmware file: as named, then in -L directories, then where distributions put SeaBIOS. */
static int fw_load_file(struct emu *e, const char *name, uint8_t **data, size_t *size, size_t limit, struct err *err)
{
    static const char *const places[] = { "/usr/share/seabios", "/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/OVMF" };
    char path[1024];
    size_t i;
    if (host_path_kind(name) == HOST_KIND_FILE)
        return host_file_load(name, data, size, limit, err);
    if (e->config.firmware_dir) {
        snprintf(path, sizeof path, "%s/%s", e->config.firmware_dir, name);
        if (host_path_kind(path) == HOST_KIND_FILE)
            return host_file_load(path, data, size, limit, err);
    }
    for (i = 0; i < EMU_ARRAY_LEN(places) && !strchr(name, '/'); i++) {
        snprintf(path, sizeof path, "%s/%s", places[i], name);
        if (host_path_kind(path) == HOST_KIND_FILE)
            return host_file_load(path, data, size, limit, err);
    }
    return err_set(err, EMU_ENOENT, "%s: no such firmware file here, in the folder of -L or in /usr/share/seabios; give its path", name);
}

/* The VGA ROM that fits a foreign BIOS, from beside it or from the usual places; missing: no picture before the OS. */
static void fw_load_vga_rom(struct fw *fw)
{
    struct emu *e = fw->emu;
    static const char rom_name[] = "vgabios-stdvga.bin";
    struct pci_device *vga = NULL;
    struct ram_block *block;
    struct err err;
    char path[1024];
    const char *slash = strrchr(e->config.bios, '/');
    uint8_t *data = NULL;
    size_t size = 0, room = 0x1000;
    unsigned i;
    for (i = 0; i < 256 && e->pci; i++)
        if (e->pci->devices[i] && ld16le(e->pci->devices[i]->config) == 0x1234 && ld16le(e->pci->devices[i]->config + 2) == 0x1111)
            vga = e->pci->devices[i];
    if (!vga || vga->bars[6].present)
        return;
    snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - e->config.bios + 1) : 0, e->config.bios, rom_name);
    if (host_path_kind(path) != HOST_KIND_FILE)
        snprintf(path, sizeof path, "%s", rom_name);
    if (fw_load_file(e, path, &data, &size, 256 << 10, &err) != 0) {
        emu_log(e, LOG_NOTICE, "-bios: %s not found beside it or in /usr/share/seabios: no picture until the system sets a mode", rom_name);
        return;
    }
    while (room < size)
        room <<= 1;
    block = ram_block_create(e, "vga.rom", room, true, &err);
    if (block) {
        memcpy(block->bytes, data, size);
        pci_add_bar_ram(vga, 6, block, false);
    }
    free(data);
}

static int fw_create_foreign(struct fw *fw, struct err *err)
{
    struct emu *e = fw->emu;
    uint8_t *data = NULL;
    size_t size = 0, room = 0x1000;
    int rc = fw_load_file(e, e->config.bios, &data, &size, 16 << 20, err);
    if (rc)
        return err_prefix(err, rc, "-bios");
    if (!size || size % 0x1000) {
        free(data);
        return err_set(err, EMU_EINVAL, "-bios %s: %lu bytes is no firmware size; a multiple of 4 KiB is needed", e->config.bios, (unsigned long)size);
    }
    room = size;
    fw->rom = ram_block_create(e, "bios", room, true, err);
    if (fw->rom)
        memcpy(fw->rom->bytes, data, size);
    free(data);
    if (!fw->rom)
        return EMU_ENOMEM;
    rc = fw_map_rom(fw, size, err);
    if (rc)
        return rc;
    fw_load_vga_rom(fw);
    rc = smbios_publish_fw_cfg(e);
    if (!rc && !e->config.no_acpi)
        rc = acpi_publish_fw_cfg(e);
    if (rc)
        return err_set(err, rc, "firmware tables: %s", emu_strerror(rc));
    return e->config.kernel ? linuxboot_create(fw, err) : 0;
}

/* A bad -uuid or -smbios line is to end the start, not to lose the tables silently. */
static int fw_check_smbios(struct emu *e, struct err *err)
{
    struct buf tables;
    uint8_t anchor[31];
    int rc;
    buf_init(&tables, e);
    rc = smbios_build(e, &tables, anchor, err);
    buf_free(&tables);
    return rc;
}

EMU_PRIV int firmware_create(struct emu *e, struct err *err)
{
    struct fw *fw = emu_alloc(e, sizeof *fw);
    int rc;
    if (!fw)
        return err_set(err, EMU_ENOMEM, "firmware: out of memory");
    fw->emu = e;
    e->firmware = fw;
    buf_init(&fw->relay_out, e);
    fw->builtin = !e->config.bios;
    if (!fw->builtin)
        return fw_create_foreign(fw, err);
    if ((rc = fw_check_smbios(e, err)))
        return rc;
    fw->rom = ram_block_create(e, "bios", FW_ROM_BYTES, true, err);
    if (!fw->rom)
        return EMU_ENOMEM;
    fw_build_rom(fw->rom->bytes);
    rc = fw_map_rom(fw, FW_ROM_BYTES, err);
    if (!rc)
        rc = port_add(e, &fw->ports, "bios services", FW_PORT_BASE, FW_PORT_END - FW_PORT_BASE, &fw_port_ops, fw);
    if (rc)
        return rc;
    return e->config.kernel ? loader_create(fw, err) : 0;
}

/* RAM survives a reset as on hardware; the ROM does not change; POST does the rest. */
EMU_PRIV void firmware_reset(struct emu *e)
{
    struct fw *fw = e->firmware;
    if (!fw)
        return;
    fw->frame_at = 0;
    fw->held = false;
    fw->fetch_got = 0;
    fw->eltorito.active = false;
}

EMU_PRIV void firmware_destroy(struct emu *e)
{
    struct fw *fw = e->firmware;
    if (!fw)
        return;
    loader_free(fw);
    buf_free(&fw->relay_out);
    if (fw->rom_low.added)
        region_remove(e, &e->memory, &fw->rom_low);
    if (fw->rom_high.added)
        region_remove(e, &e->memory, &fw->rom_high);
    if (fw->ports.added)
        region_remove(e, &e->ports, &fw->ports);
    emu_free(e, fw);
    e->firmware = NULL;
}
