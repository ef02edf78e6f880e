/* fw/bios_video.c - INT 10h: text, graphics, palette, fonts, and VBE 3.
 *
 * Models     the IBM VGA BIOS interface (PS/2 technical reference: video) and VESA BIOS Extension 3.0 with a linear frame buffer.
 * Contract   bios.c calls fw_video_init() at power-on, fw_int10() for the stub and fw_video_teletype() for its own messages.
 * Theory     Registers are written through the VGA's ports and memory through its window, so the device is in the same state as after
 *            any VGA BIOS. VBE modes go through the dispi registers at 1CEh/1CFh of the stdvga. A ROM image at C0000h is built
 *            at power-on: header, INT 10h entry, mode list, fonts, tables.
 * Invariants 1. What the BIOS knows about the mode is in the BIOS data area or read back from the device, not in struct fw.
 *            2. After a drawing call the graphics controller has the values that the mode set gave it.
 * Missing    light pen (answers "not triggered"), EDID (answers "none"), planar VBE modes, VBE protected-mode interface (optional since 3.0).
 */
#include "../machine.h"
#include "fw.h"

/* ================= registers ================= */

enum { VGA_ATTR = 0x3C0, VGA_MISC_WRITE = 0x3C2, VGA_SEQ = 0x3C4, VGA_DAC_MASK = 0x3C6, VGA_DAC_READ = 0x3C7, VGA_DAC_WRITE = 0x3C8, VGA_DAC_DATA = 0x3C9,
       VGA_MISC_READ = 0x3CC, VGA_GFX = 0x3CE };
enum { DISPI_INDEX = 0x1CE, DISPI_DATA = 0x1CF };
enum { DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRT_WIDTH, DISPI_VIRT_HEIGHT, DISPI_X_OFFSET, DISPI_Y_OFFSET, DISPI_VIDEO_MEMORY_64K };
enum { DISPI_ENABLED = 0x01, DISPI_8BIT_DAC = 0x20, DISPI_LFB = 0x40, DISPI_NO_CLEAR = 0x80 };

static unsigned video_dispi(struct fw *fw, unsigned index)
{
    port_write(fw->emu, DISPI_INDEX, index, 2);
    return (unsigned)port_read(fw->emu, DISPI_DATA, 2);
}
static void video_dispi_set(struct fw *fw, unsigned index, unsigned value)
{
    port_write(fw->emu, DISPI_INDEX, index, 2);
    port_write(fw->emu, DISPI_DATA, value, 2);
}
static void video_indexed(struct fw *fw, unsigned port, unsigned index, unsigned value)
{
    fw_outb(fw, port, index);
    fw_outb(fw, port + 1, value);
}
static unsigned video_indexed_read(struct fw *fw, unsigned port, unsigned index)
{
    fw_outb(fw, port, index);
    return fw_inb(fw, port + 1);
}
static unsigned video_crtc(struct fw *fw)
{
    return fw_ld16(fw, BDA_CRTC_PORT);
}
static void video_attr_reset(struct fw *fw) { (void)fw_inb(fw, video_crtc(fw) + 6); }
static void video_attr_set(struct fw *fw, unsigned index, unsigned value)
{
    video_attr_reset(fw);
    fw_outb(fw, VGA_ATTR, index);
    fw_outb(fw, VGA_ATTR, value);
}
static void video_attr_on(struct fw *fw)
{
    video_attr_reset(fw);
    fw_outb(fw, VGA_ATTR, 0x20);
}
static unsigned video_attr_get(struct fw *fw, unsigned index)
{
    unsigned v;
    video_attr_reset(fw);
    fw_outb(fw, VGA_ATTR, index);
    v = fw_inb(fw, VGA_ATTR + 1);
    return v;
}

/* ================= modes ================= */

enum video_model { VIDEO_TEXT, VIDEO_CGA, VIDEO_PLANAR, VIDEO_PACKED, VIDEO_DIRECT };
enum video_palette { PALETTE_MONO, PALETTE_CGA, PALETTE_EGA, PALETTE_VGA };
struct video_regs { /* PS/2 technical reference: video parameter table */
    uint8_t seq[4], misc, crtc[25], attr[20], gfx[9];
};
#define VIDEO_ATTR_EGA 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F
#define VIDEO_ATTR_CGA16 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17
enum { REGS_TEXT40, REGS_TEXT80, REGS_CGA320, REGS_CGA640, REGS_MONO, REGS_0D, REGS_0E, REGS_0F, REGS_10, REGS_11, REGS_12, REGS_13 };
static const struct video_regs video_regs[] = {
    { { 0x08, 0x03, 0x00, 0x02 }, 0x67,
      { 0x2D, 0x27, 0x28, 0x90, 0x2B, 0xA0, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x14, 0x1F, 0x96, 0xB9, 0xA3, 0xFF },
      { VIDEO_ATTR_EGA, 0x0C, 0x00, 0x0F, 0x08 }, { 0, 0, 0, 0, 0, 0x10, 0x0E, 0x00, 0xFF } },
    { { 0x00, 0x03, 0x00, 0x02 }, 0x67,
      { 0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF },
      { VIDEO_ATTR_EGA, 0x0C, 0x00, 0x0F, 0x08 }, { 0, 0, 0, 0, 0, 0x10, 0x0E, 0x00, 0xFF } },
    { { 0x09, 0x03, 0x00, 0x02 }, 0x63,
      { 0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF },
      { 0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x03, 0x00 },
      { 0, 0, 0, 0, 0, 0x30, 0x0F, 0x00, 0xFF } },
    { { 0x01, 0x01, 0x00, 0x06 }, 0x63,
      { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF },
      { 0x00, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x01, 0x00, 0x01, 0x00 },
      { 0, 0, 0, 0, 0, 0x00, 0x0D, 0x00, 0xFF } },
    { { 0x00, 0x03, 0x00, 0x02 }, 0x66,
      { 0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28, 0x0F, 0x96, 0xB9, 0xA3, 0xFF },
      { 0x00, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x10, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x0E, 0x00, 0x0F, 0x08 },
      { 0, 0, 0, 0, 0, 0x10, 0x0A, 0x00, 0xFF } },
    { { 0x09, 0x0F, 0x00, 0x06 }, 0x63,
      { 0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC0, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xE3, 0xFF },
      { VIDEO_ATTR_CGA16, 0x01, 0x00, 0x0F, 0x00 }, { 0, 0, 0, 0, 0, 0x00, 0x05, 0x0F, 0xFF } },
    { { 0x01, 0x0F, 0x00, 0x06 }, 0x63,
      { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC0, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xE3, 0xFF },
      { VIDEO_ATTR_CGA16, 0x01, 0x00, 0x0F, 0x00 }, { 0, 0, 0, 0, 0, 0x00, 0x05, 0x0F, 0xFF } },
    { { 0x01, 0x0F, 0x00, 0x06 }, 0xA2,
      { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0x83, 0x85, 0x5D, 0x28, 0x0F, 0x63, 0xBA, 0xE3, 0xFF },
      { 0x00, 0x08, 0x00, 0x00, 0x18, 0x18, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x18, 0x00, 0x00, 0x0B, 0x00, 0x05, 0x00 },
      { 0, 0, 0, 0, 0, 0x00, 0x05, 0x05, 0xFF } },
    { { 0x01, 0x0F, 0x00, 0x06 }, 0xA3,
      { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0x83, 0x85, 0x5D, 0x28, 0x0F, 0x63, 0xBA, 0xE3, 0xFF },
      { VIDEO_ATTR_EGA, 0x01, 0x00, 0x0F, 0x00 }, { 0, 0, 0, 0, 0, 0x00, 0x05, 0x0F, 0xFF } },
    { { 0x01, 0x0F, 0x00, 0x06 }, 0xE3,
      { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0xEA, 0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF },
      { 0x00, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x01, 0x00, 0x0F, 0x00 },
      { 0, 0, 0, 0, 0, 0x00, 0x05, 0x0F, 0xFF } },
    { { 0x01, 0x0F, 0x00, 0x06 }, 0xE3,
      { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0xEA, 0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF },
      { VIDEO_ATTR_EGA, 0x01, 0x00, 0x0F, 0x00 }, { 0, 0, 0, 0, 0, 0x00, 0x05, 0x0F, 0xFF } },
    { { 0x01, 0x0F, 0x00, 0x0E }, 0x63,
      { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF },
      { 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x41, 0x00, 0x0F, 0x00 },
      { 0, 0, 0, 0, 0, 0x40, 0x05, 0x0F, 0xFF } },
};
#undef VIDEO_ATTR_EGA
#undef VIDEO_ATTR_CGA16

struct video_mode {
    uint8_t number, model, bits, palette, regs;
    uint8_t columns, rows, char_height;
    uint16_t width, height, segment, page_bytes;
    uint8_t pages;
};
static const struct video_mode video_modes[] = {
    { 0x00, VIDEO_TEXT, 4, PALETTE_EGA, REGS_TEXT40, 40, 25, 16, 360, 400, 0xB800, 0x0800, 8 },
    { 0x01, VIDEO_TEXT, 4, PALETTE_EGA, REGS_TEXT40, 40, 25, 16, 360, 400, 0xB800, 0x0800, 8 },
    { 0x02, VIDEO_TEXT, 4, PALETTE_EGA, REGS_TEXT80, 80, 25, 16, 720, 400, 0xB800, 0x1000, 8 },
    { 0x03, VIDEO_TEXT, 4, PALETTE_EGA, REGS_TEXT80, 80, 25, 16, 720, 400, 0xB800, 0x1000, 8 },
    { 0x04, VIDEO_CGA, 2, PALETTE_CGA, REGS_CGA320, 40, 25, 8, 320, 200, 0xB800, 0x4000, 1 },
    { 0x05, VIDEO_CGA, 2, PALETTE_CGA, REGS_CGA320, 40, 25, 8, 320, 200, 0xB800, 0x4000, 1 },
    { 0x06, VIDEO_CGA, 1, PALETTE_CGA, REGS_CGA640, 80, 25, 8, 640, 200, 0xB800, 0x4000, 1 },
    { 0x07, VIDEO_TEXT, 1, PALETTE_MONO, REGS_MONO, 80, 25, 16, 720, 400, 0xB000, 0x1000, 8 },
    { 0x0D, VIDEO_PLANAR, 4, PALETTE_CGA, REGS_0D, 40, 25, 8, 320, 200, 0xA000, 0x2000, 8 },
    { 0x0E, VIDEO_PLANAR, 4, PALETTE_CGA, REGS_0E, 80, 25, 8, 640, 200, 0xA000, 0x4000, 4 },
    { 0x0F, VIDEO_PLANAR, 1, PALETTE_MONO, REGS_0F, 80, 25, 14, 640, 350, 0xA000, 0x8000, 2 },
    { 0x10, VIDEO_PLANAR, 4, PALETTE_EGA, REGS_10, 80, 25, 14, 640, 350, 0xA000, 0x8000, 2 },
    { 0x11, VIDEO_PLANAR, 1, PALETTE_EGA, REGS_11, 80, 30, 16, 640, 480, 0xA000, 0xA000, 1 },
    { 0x12, VIDEO_PLANAR, 4, PALETTE_EGA, REGS_12, 80, 30, 16, 640, 480, 0xA000, 0xA000, 1 },
    { 0x13, VIDEO_PACKED, 8, PALETTE_VGA, REGS_13, 40, 25, 8, 320, 200, 0xA000, 0xFFFF, 1 },
};

static const struct video_mode *video_mode_find(unsigned number)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(video_modes); i++)
        if (video_modes[i].number == number)
            return &video_modes[i];
    return NULL;
}

/* What is on the screen now: geometry for drawing, from the BDA or the dispi registers. */
struct video_now {
    const struct video_mode *m;
    unsigned model, bits, columns, rows, char_height, pitch, page_bytes;
    uint32_t base; /* linear address of page 0 */
};
static bool video_vbe_on(struct fw *fw) { return fw->has_vga && (video_dispi(fw, DISPI_ENABLE) & DISPI_ENABLED); }

static void video_get(struct fw *fw, struct video_now *v)
{
    unsigned number = fw_ld8(fw, BDA_VIDEO_MODE) & 0x7Fu;
    v->m = video_mode_find(number);
    if (!v->m)
        v->m = video_mode_find(3);
    v->model = v->m->model;
    v->bits = v->m->bits;
    v->columns = fw_ld16(fw, BDA_VIDEO_COLUMNS);
    v->rows = fw_ld8(fw, BDA_VIDEO_ROWS) + 1u;
    v->char_height = fw_ld8(fw, BDA_CHAR_HEIGHT);
    v->page_bytes = fw_ld16(fw, BDA_VIDEO_PAGE_SIZE);
    v->base = (uint32_t)v->m->segment << 4;
    v->pitch = v->model == VIDEO_PACKED ? 320 : v->model == VIDEO_CGA ? 80 : v->columns;
    if (video_vbe_on(fw)) {
        v->model = VIDEO_DIRECT;
        v->bits = video_dispi(fw, DISPI_BPP);
        v->columns = video_dispi(fw, DISPI_XRES) / 8;
        v->char_height = 16;
        v->rows = video_dispi(fw, DISPI_YRES) / 16;
        v->pitch = video_dispi(fw, DISPI_VIRT_WIDTH) * ((v->bits + 7) / 8);
        v->base = fw->lfb_gpa;
        v->page_bytes = 0;
    }
    if (!v->columns || v->columns > 512)
        v->columns = 80;
    if (!v->char_height || v->char_height > 32)
        v->char_height = 16;
    if (!v->rows) /* VBE with fewer than 16 lines */
        v->rows = 1;
}

/* ================= palette ================= */

static void video_dac_write(struct fw *fw, unsigned index, const uint8_t rgb[3])
{
    fw_outb(fw, VGA_DAC_WRITE, index);
    fw_outb(fw, VGA_DAC_DATA, rgb[0]);
    fw_outb(fw, VGA_DAC_DATA, rgb[1]);
    fw_outb(fw, VGA_DAC_DATA, rgb[2]);
}
static void video_dac_read(struct fw *fw, unsigned index, uint8_t rgb[3])
{
    fw_outb(fw, VGA_DAC_READ, index);
    rgb[0] = fw_inb(fw, VGA_DAC_DATA);
    rgb[1] = fw_inb(fw, VGA_DAC_DATA);
    rgb[2] = fw_inb(fw, VGA_DAC_DATA);
}

/* 16 colours of the CGA: bits blue, green, red, intensity; dark yellow is brown. */
static void video_cga_colour(unsigned i, bool intense, uint8_t rgb[3])
{
    uint8_t low = intense ? 0x15 : 0;
    rgb[0] = (uint8_t)((i & 4 ? 0x2A : 0) + low);
    rgb[1] = (uint8_t)((i & 2 ? 0x2A : 0) + low);
    rgb[2] = (uint8_t)((i & 1 ? 0x2A : 0) + low);
    if ((i & 7) == 6 && !intense)
        rgb[1] = 0x15;
}

/* Colours 32-247 of mode 13h: 24 hues for each of 3 brightnesses by 3 saturations, in five steps from low to high. */
static void video_wheel_colour(unsigned n, uint8_t rgb[3])
{
    static const uint8_t levels[9][5] = {
        { 0x00, 0x10, 0x1F, 0x2F, 0x3F }, { 0x1F, 0x27, 0x2F, 0x37, 0x3F }, { 0x2D, 0x31, 0x36, 0x3A, 0x3F },
        { 0x00, 0x07, 0x0E, 0x15, 0x1C }, { 0x0E, 0x11, 0x15, 0x18, 0x1C }, { 0x14, 0x16, 0x18, 0x1A, 0x1C },
        { 0x00, 0x04, 0x08, 0x0C, 0x10 }, { 0x08, 0x0A, 0x0C, 0x0E, 0x10 }, { 0x0B, 0x0C, 0x0D, 0x0F, 0x10 } };
    const uint8_t *l = levels[n / 24];
    unsigned hue = n % 24, k = hue % 4;
    unsigned r, g, b;
    switch (hue / 4) {
    case 0: r = k, g = 0, b = 4; break;
    case 1: r = 4, g = 0, b = 4 - k; break;
    case 2: r = 4, g = k, b = 0; break;
    case 3: r = 4 - k, g = 4, b = 0; break;
    case 4: r = 0, g = 4, b = k; break;
    default: r = 0, g = 4 - k, b = 4; break;
    }
    rgb[0] = l[r], rgb[1] = l[g], rgb[2] = l[b];
}

static void video_load_palette(struct fw *fw, unsigned palette)
{
    static const uint8_t greys[16] = { 0x00, 0x05, 0x08, 0x0B, 0x0E, 0x11, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x2D, 0x32, 0x38, 0x3F };
    unsigned i, count = palette == PALETTE_VGA ? 256 : 64;
    bool grey = (fw_ld8(fw, BDA_VIDEO_MODESET) & 2) != 0;
    for (i = 0; i < count; i++) {
        uint8_t rgb[3] = { 0, 0, 0 };
        if (palette == PALETTE_MONO)
            rgb[0] = rgb[1] = rgb[2] = (i & 0x18) == 0x18 ? 0x3F : i & 0x08 ? 0x2A : i & 0x10 ? 0x15 : 0;
        else if (palette == PALETTE_CGA)
            video_cga_colour(i & 7, (i & 0x10) != 0, rgb);
        else if (palette == PALETTE_EGA) {
            rgb[0] = (uint8_t)((i & 4 ? 0x2A : 0) + (i & 0x20 ? 0x15 : 0));
            rgb[1] = (uint8_t)((i & 2 ? 0x2A : 0) + (i & 0x10 ? 0x15 : 0));
            rgb[2] = (uint8_t)((i & 1 ? 0x2A : 0) + (i & 0x08 ? 0x15 : 0));
        } else if (i < 16)
            video_cga_colour(i & 7, i > 7, rgb);
        else if (i < 32)
            rgb[0] = rgb[1] = rgb[2] = greys[i - 16];
        else if (i < 248)
            video_wheel_colour(i - 32, rgb);
        if (grey)
            rgb[0] = rgb[1] = rgb[2] = (uint8_t)((rgb[0] * 77 + rgb[1] * 151 + rgb[2] * 28) / 256);
        video_dac_write(fw, i, rgb);
    }
    for (; i < 256; i++) {
        static const uint8_t black[3] = { 0, 0, 0 };
        video_dac_write(fw, i, black);
    }
}

/* ================= fonts ================= */

static uint32_t video_rom_font(struct fw *fw, unsigned height)
{
    return FW_VGA_ROM + (height == 8 ? fw->font8_off : height == 14 ? fw->font14_off : fw->font16_off);
}

/* Character generator lives in plane 2, 32 bytes a glyph, eight blocks. Opens and closes the window at A0000h. */
static void video_font_window(struct fw *fw, bool open)
{
    bool mono = !(fw_inb(fw, VGA_MISC_READ) & 1);
    video_indexed(fw, VGA_SEQ, 0, 1);
    video_indexed(fw, VGA_SEQ, 2, open ? 4 : 3);
    video_indexed(fw, VGA_SEQ, 4, open ? 7 : 3);
    video_indexed(fw, VGA_SEQ, 0, 3);
    video_indexed(fw, VGA_GFX, 4, open ? 2 : 0);
    video_indexed(fw, VGA_GFX, 5, open ? 0 : 0x10);
    video_indexed(fw, VGA_GFX, 6, open ? 4 : mono ? 0x0A : 0x0E);
}

/* glyphs in linear memory, or at seg:off of the caller. */
static void video_load_font(struct fw *fw, const uint8_t *glyphs, unsigned first, unsigned count, unsigned height, unsigned block)
{
    uint32_t at = 0xA0000 + ((block & 3u) << 14) + ((block & 4u) << 11);
    unsigned i;
    video_font_window(fw, true);
    for (i = 0; i < count && first + i < 256; i++)
        fw_write(fw, at + (first + i) * 32, glyphs + (size_t)i * height, height);
    video_font_window(fw, false);
}

static void video_load_rom_font(struct fw *fw, unsigned height, unsigned block)
{
    uint8_t glyphs[256 * 16];
    mem_read(fw->emu, video_rom_font(fw, height), glyphs, (size_t)256 * height);
    video_load_font(fw, glyphs, 0, 256, height, block);
}

static void video_cursor_shape(struct fw *fw, unsigned shape);
static void video_cursor_update(struct fw *fw, unsigned page);

/* New cell height in a text mode: as many rows as fit. */
static void video_set_char_height(struct fw *fw, unsigned height)
{
    unsigned crtc = video_crtc(fw), lines, vde, rows, max;
    if (!height || height > 32)
        return;
    max = video_indexed_read(fw, crtc, 9);
    video_indexed(fw, crtc, 9, (max & 0xE0u) | (height - 1));
    vde = video_indexed_read(fw, crtc, 0x12);
    lines = video_indexed_read(fw, crtc, 7);
    lines = (vde | (lines & 2u) << 7 | (lines & 0x40u) << 3) + 1;
    if (max & 0x80)
        lines /= 2;
    rows = lines / height;
    fw_st8(fw, BDA_VIDEO_ROWS, rows - 1);
    fw_st16(fw, BDA_CHAR_HEIGHT, height);
    fw_st16(fw, BDA_VIDEO_PAGE_SIZE, (rows * fw_ld16(fw, BDA_VIDEO_COLUMNS) * 2 + 0x100) & ~0xFFu);
    /* visible lines end with the last whole row */
    vde = rows * height * (max & 0x80 ? 2u : 1u) - 1;
    video_indexed(fw, crtc, 0x11, video_indexed_read(fw, crtc, 0x11) & 0x7Fu);
    video_indexed(fw, crtc, 0x12, vde & 0xFF);
    video_indexed(fw, crtc, 7, (video_indexed_read(fw, crtc, 7) & ~0x42u) | (vde >> 7 & 2) | (vde >> 3 & 0x40));
    video_cursor_shape(fw, height == 8 ? 0x0607 : (height - 3) << 8 | (height - 2));
}

/* ================= cursor ================= */

static void video_cursor_update(struct fw *fw, unsigned page)
{
    unsigned pos, at, crtc = video_crtc(fw);
    if (page != fw_ld8(fw, BDA_VIDEO_PAGE) || video_vbe_on(fw))
        return;
    pos = fw_ld16(fw, BDA_CURSOR_POS + 2 * page);
    at = fw_ld16(fw, BDA_VIDEO_PAGE_START) / 2 + (pos >> 8) * fw_ld16(fw, BDA_VIDEO_COLUMNS) + (pos & 0xFF);
    video_indexed(fw, crtc, 0x0E, at >> 8);
    video_indexed(fw, crtc, 0x0F, at & 0xFF);
}

static void video_cursor_set(struct fw *fw, unsigned page, unsigned row, unsigned column)
{
    page &= 7;
    fw_st16(fw, BDA_CURSOR_POS + 2 * page, row << 8 | column);
    video_cursor_update(fw, page);
}

/* Shapes are given for 8-line cells; taller cells get the same place (unless emulation is off: 487h bit 0). */
static void video_cursor_shape(struct fw *fw, unsigned shape)
{
    unsigned start = shape >> 8, end = shape & 0x1F, height = fw_ld8(fw, BDA_CHAR_HEIGHT), crtc = video_crtc(fw);
    fw_st16(fw, BDA_CURSOR_TYPE, shape);
    if (!(fw_ld8(fw, BDA_VIDEO_CONTROL) & 1) && height > 8 && end < 8 && (start & 0x1F) < 8 && !(start & 0x20)) {
        unsigned s = start & 0x1F;
        if (s == 6 && end == 7)
            start = height - 3, end = height - 2;
        else
            start = s * height / 8, end = (end + 1) * height / 8 - 1;
    }
    video_indexed(fw, crtc, 0x0A, start & 0x3F);
    video_indexed(fw, crtc, 0x0B, end);
}

/* ================= mode set ================= */

static void video_fill(struct fw *fw, uint32_t at, uint32_t bytes, unsigned word)
{
    uint8_t chunk[1024];
    unsigned i;
    for (i = 0; i < sizeof chunk; i += 2)
        st16le(chunk + i, (uint16_t)word);
    for (; bytes; bytes -= EMU_MIN(bytes, (uint32_t)sizeof chunk), at += sizeof chunk)
        fw_write(fw, at, chunk, EMU_MIN(bytes, (uint32_t)sizeof chunk));
}

static void video_set_mode(struct fw *fw, unsigned number, bool clear)
{
    const struct video_mode *m = video_mode_find(number);
    const struct video_regs *g;
    unsigned i, crtc, height;
    uint32_t font;
    if (!m)
        return;
    g = &video_regs[m->regs];
    crtc = g->misc & 1 ? 0x3D4 : 0x3B4;
    fw_st16(fw, BDA_CRTC_PORT, crtc);
    if (fw->has_vga)
        video_dispi_set(fw, DISPI_ENABLE, 0);
    fw_outb(fw, VGA_MISC_WRITE, g->misc);
    video_attr_reset(fw);
    fw_outb(fw, VGA_ATTR, 0); /* screen off while registers change */
    video_indexed(fw, VGA_SEQ, 0, 1);
    for (i = 0; i < 4; i++)
        video_indexed(fw, VGA_SEQ, i + 1, g->seq[i]);
    video_indexed(fw, VGA_SEQ, 0, 3);
    video_indexed(fw, crtc, 0x11, 0);
    for (i = 0; i < 25; i++)
        video_indexed(fw, crtc, i, g->crtc[i]);
    for (i = 0; i < 9; i++)
        video_indexed(fw, VGA_GFX, i, g->gfx[i]);
    for (i = 0; i < 20; i++)
        video_attr_set(fw, i, g->attr[i]);
    video_attr_set(fw, 0x14, 0);
    fw_outb(fw, VGA_DAC_MASK, 0xFF);
    if (!(fw_ld8(fw, BDA_VIDEO_MODESET) & 8))
        video_load_palette(fw, m->palette);
    if (clear) {
        if (m->model == VIDEO_TEXT)
            video_fill(fw, (uint32_t)m->segment << 4, 0x8000, 0x0720);
        else if (m->model == VIDEO_CGA)
            video_fill(fw, (uint32_t)m->segment << 4, 0x8000, 0);
        else
            video_fill(fw, 0xA0000, 0x10000, 0);
    }
    height = m->char_height;
    fw_st8(fw, BDA_VIDEO_MODE, number);
    fw_st16(fw, BDA_VIDEO_COLUMNS, m->columns);
    fw_st16(fw, BDA_VIDEO_PAGE_SIZE, m->page_bytes == 0xFFFF ? 0 : m->page_bytes);
    fw_st16(fw, BDA_VIDEO_PAGE_START, 0);
    for (i = 0; i < 8; i++)
        fw_st16(fw, BDA_CURSOR_POS + 2 * i, 0);
    fw_st8(fw, BDA_VIDEO_PAGE, 0);
    fw_st8(fw, BDA_VIDEO_ROWS, m->rows - 1u);
    fw_st16(fw, BDA_CHAR_HEIGHT, height);
    fw_st8(fw, BDA_VIDEO_CONTROL, 0x60 | (clear ? 0 : 0x80) | (fw_ld8(fw, BDA_VIDEO_CONTROL) & 1u));
    fw_st8(fw, BDA_VIDEO_SWITCHES, 0xF9);
    fw_st8(fw, BDA_VIDEO_MODESET, fw_ld8(fw, BDA_VIDEO_MODESET) & 0x7Fu);
    fw_st8(fw, BDA_VIDEO_DCC, 8);
    fw_st8(fw, BDA_MODE_CONTROL, number == 6 ? 0x1E : number == 7 ? 0x29 : m->model == VIDEO_CGA ? 0x2E : m->columns == 40 ? 0x2C : 0x29);
    fw_st8(fw, BDA_CGA_PALETTE, number == 6 ? 0x3F : 0x30);
    if (m->model == VIDEO_TEXT)
        video_load_rom_font(fw, height, 0);
    font = (uint32_t)(FW_VGA_ROM >> 4) << 16 | (video_rom_font(fw, height) - FW_VGA_ROM);
    fw_st32(fw, 0x43 * 4, font);
    fw_st32(fw, 0x1F * 4, (uint32_t)(FW_VGA_ROM >> 4) << 16 | (fw->font8_off + 128u * 8));
    video_cursor_shape(fw, 0x0607);
    video_cursor_update(fw, 0);
    video_attr_on(fw);
}

/* ================= pixels ================= */

static void video_put_pixel(struct fw *fw, const struct video_now *v, unsigned page, unsigned x, unsigned y, unsigned colour)
{
    uint32_t at = v->base + page * v->page_bytes;
    switch (v->model) {
    case VIDEO_CGA: {
        unsigned shift, mask = (1u << v->bits) - 1, old, per = 8 / v->bits;
        at = v->base + (y & 1) * 0x2000u + (y >> 1) * 80 + x / per;
        shift = (per - 1 - x % per) * v->bits;
        old = fw_ld8(fw, at);
        fw_st8(fw, at, colour & 0x80 ? old ^ (colour & mask) << shift : (old & ~(mask << shift)) | (colour & mask) << shift);
        break;
    }
    case VIDEO_PLANAR:
        at += y * v->pitch + x / 8;
        video_indexed(fw, VGA_GFX, 8, 0x80u >> (x & 7));
        video_indexed(fw, VGA_GFX, 5, 2);
        video_indexed(fw, VGA_GFX, 3, colour & 0x80 ? 0x18 : 0);
        (void)fw_ld8(fw, at);
        fw_st8(fw, at, colour & 15);
        video_indexed(fw, VGA_GFX, 8, 0xFF);
        video_indexed(fw, VGA_GFX, 5, 0);
        video_indexed(fw, VGA_GFX, 3, 0);
        break;
    case VIDEO_PACKED: fw_st8(fw, v->base + y * 320 + x, colour); break;
    case VIDEO_DIRECT:
        if (v->base)
            mem_st(fw->emu, v->base + (uint64_t)y * v->pitch + x * ((v->bits + 7) / 8), colour, v->bits == 8 ? 1 : v->bits <= 16 ? 2 : 4);
        break;
    default: break;
    }
}

static unsigned video_get_pixel(struct fw *fw, const struct video_now *v, unsigned page, unsigned x, unsigned y)
{
    uint32_t at = v->base + page * v->page_bytes;
    unsigned plane, colour = 0;
    switch (v->model) {
    case VIDEO_CGA: {
        unsigned per = 8 / v->bits;
        at = v->base + (y & 1) * 0x2000u + (y >> 1) * 80 + x / per;
        return fw_ld8(fw, at) >> ((per - 1 - x % per) * v->bits) & ((1u << v->bits) - 1);
    }
    case VIDEO_PLANAR:
        at += y * v->pitch + x / 8;
        for (plane = 0; plane < 4; plane++) {
            video_indexed(fw, VGA_GFX, 4, plane);
            colour |= (fw_ld8(fw, at) >> (7 - (x & 7)) & 1u) << plane;
        }
        video_indexed(fw, VGA_GFX, 4, 0);
        return colour;
    case VIDEO_PACKED: return fw_ld8(fw, v->base + y * 320 + x);
    case VIDEO_DIRECT:
        return v->base ? (unsigned)mem_ld(fw->emu, v->base + (uint64_t)y * v->pitch + x * ((v->bits + 7) / 8), v->bits == 8 ? 1 : v->bits <= 16 ? 2 : 4) : 0;
    default: return 0;
    }
}

/* Colour number 0-15 in a direct colour format. */
static uint32_t video_direct_colour(const struct video_now *v, unsigned colour)
{
    uint8_t rgb[3];
    if (v->bits == 8)
        return colour & 15;
    video_cga_colour(colour & 7, (colour & 8) != 0, rgb);
    if (v->bits == 15)
        return (uint32_t)(rgb[0] >> 1) << 10 | (uint32_t)(rgb[1] >> 1) << 5 | (uint32_t)(rgb[2] >> 1);
    if (v->bits == 16)
        return (uint32_t)(rgb[0] >> 1) << 11 | (uint32_t)rgb[1] << 5 | (uint32_t)(rgb[2] >> 1);
    return (uint32_t)rgb[0] << 18 | (uint32_t)rgb[1] << 10 | (uint32_t)rgb[2] << 2;
}

/* ================= characters ================= */

static void video_glyph(struct fw *fw, const struct video_now *v, unsigned ch, uint8_t out[32])
{
    uint32_t font = fw_ld32(fw, 0x43 * 4), lin;
    unsigned height = v->char_height;
    if (v->model == VIDEO_DIRECT) {
        mem_read(fw->emu, video_rom_font(fw, 16) + ch * 16, out, 16);
        return;
    }
    if (v->model == VIDEO_CGA && ch >= 128) {
        font = fw_ld32(fw, 0x1F * 4);
        ch -= 128;
    }
    lin = ((font >> 16) << 4) + (font & 0xFFFF);
    fw_read(fw, lin + ch * height, out, height);
}

static void video_draw_glyph(struct fw *fw, const struct video_now *v, unsigned page, unsigned column, unsigned row, unsigned ch, unsigned colour)
{
    uint8_t glyph[32];
    unsigned y, x, top = row * v->char_height;
    memset(glyph, 0, sizeof glyph);
    video_glyph(fw, v, ch, glyph);
    if (v->model == VIDEO_PLANAR) {
        uint32_t at = v->base + page * v->page_bytes + top * v->pitch + column;
        video_indexed(fw, VGA_GFX, 5, 2);
        video_indexed(fw, VGA_GFX, 3, colour & 0x80 ? 0x18 : 0);
        for (y = 0; y < v->char_height; y++, at += v->pitch) {
            video_indexed(fw, VGA_GFX, 8, glyph[y]);
            (void)fw_ld8(fw, at);
            fw_st8(fw, at, colour & 15);
            if (colour & 0x80)
                continue;
            video_indexed(fw, VGA_GFX, 8, (unsigned)~glyph[y] & 0xFF);
            (void)fw_ld8(fw, at);
            fw_st8(fw, at, 0);
        }
        video_indexed(fw, VGA_GFX, 8, 0xFF);
        video_indexed(fw, VGA_GFX, 5, 0);
        video_indexed(fw, VGA_GFX, 3, 0);
        return;
    }
    if (v->model == VIDEO_PACKED) {
        for (y = 0; y < v->char_height; y++) {
            uint8_t line[8];
            for (x = 0; x < 8; x++)
                line[x] = (uint8_t)(glyph[y] >> (7 - x) & 1 ? colour : 0);
            fw_write(fw, v->base + (top + y) * 320 + column * 8, line, 8);
        }
        return;
    }
    for (y = 0; y < v->char_height; y++)
        for (x = 0; x < 8; x++) {
            unsigned on = glyph[y] >> (7 - x) & 1, c = on ? colour & 0x7F : 0;
            if (v->model == VIDEO_DIRECT)
                video_put_pixel(fw, v, 0, column * 8 + x, top + y, video_direct_colour(v, c));
            else if (!(colour & 0x80) || on)
                video_put_pixel(fw, v, page, column * 8 + x, top + y, c | (colour & 0x80));
        }
}

static uint32_t video_cell(const struct video_now *v, unsigned page, unsigned row, unsigned column)
{
    return v->base + page * v->page_bytes + (row * v->columns + column) * 2;
}

static void video_put_char(struct fw *fw, const struct video_now *v, unsigned page, unsigned row, unsigned column, unsigned ch, unsigned attr, bool with_attr)
{
    if (v->model == VIDEO_TEXT) {
        if (with_attr)
            fw_st16(fw, video_cell(v, page, row, column), ch | attr << 8);
        else
            fw_st8(fw, video_cell(v, page, row, column), ch);
    } else if (row < v->rows && column < v->columns)
        video_draw_glyph(fw, v, page, column, row, ch, attr);
}

static unsigned video_read_char(struct fw *fw, const struct video_now *v, unsigned page)
{
    unsigned pos = fw_ld16(fw, BDA_CURSOR_POS + 2 * page), row = pos >> 8, column = pos & 0xFF, x, y, ch;
    uint8_t seen[32], glyph[32];
    if (v->model == VIDEO_TEXT)
        return fw_ld16(fw, video_cell(v, page, row, column));
    if (row >= v->rows || column >= v->columns)
        return 0;
    for (y = 0; y < v->char_height; y++) {
        seen[y] = 0;
        for (x = 0; x < 8; x++)
            if (video_get_pixel(fw, v, page, column * 8 + x, row * v->char_height + y))
                seen[y] |= (uint8_t)(0x80 >> x);
    }
    for (ch = 0; ch < 256; ch++) {
        video_glyph(fw, v, ch, glyph);
        if (!memcmp(glyph, seen, v->char_height))
            return ch;
    }
    return 0;
}

/* Pixel rows of a window in graphics: copies count rows from row `from` to row `to`. */
static void video_copy_lines(struct fw *fw, const struct video_now *v, unsigned page, unsigned to, unsigned from, unsigned left, unsigned right)
{
    uint32_t base = v->base + page * v->page_bytes;
    unsigned y, x;
    if (v->model == VIDEO_PLANAR) { /* write mode 1: latches carry four planes at once */
        video_indexed(fw, VGA_GFX, 5, 1);
        for (y = 0; y < v->char_height; y++)
            for (x = left; x <= right; x++) {
                (void)fw_ld8(fw, base + (from * v->char_height + y) * v->pitch + x);
                fw_st8(fw, base + (to * v->char_height + y) * v->pitch + x, 0);
            }
        video_indexed(fw, VGA_GFX, 5, 0);
        return;
    }
    for (y = 0; y < v->char_height; y++) {
        uint8_t line[320];
        unsigned a = from * v->char_height + y, b = to * v->char_height + y;
        if (v->model == VIDEO_CGA) {
            unsigned per = v->bits, n = (right - left + 1) * per; /* bytes a character cell is wide: 1 or 2 */
            fw_read(fw, v->base + (a & 1) * 0x2000u + (a >> 1) * 80 + left * per, line, EMU_MIN(n, 80u));
            fw_write(fw, v->base + (b & 1) * 0x2000u + (b >> 1) * 80 + left * per, line, EMU_MIN(n, 80u));
        } else if (v->model == VIDEO_PACKED) {
            unsigned n = (right - left + 1) * 8;
            fw_read(fw, v->base + a * 320 + left * 8, line, EMU_MIN(n, 320u));
            fw_write(fw, v->base + b * 320 + left * 8, line, EMU_MIN(n, 320u));
        } else if (v->base) { /* direct */
            uint8_t wide[512 * 32];
            unsigned bytes = (v->bits + 7) / 8 * 8, n = EMU_MIN((right - left + 1) * bytes, (unsigned)sizeof wide);
            mem_read(fw->emu, v->base + (uint64_t)a * v->pitch + left * bytes, wide, n);
            mem_write(fw->emu, v->base + (uint64_t)b * v->pitch + left * bytes, wide, n);
        }
    }
}

static void video_clear_lines(struct fw *fw, const struct video_now *v, unsigned page, unsigned row, unsigned left, unsigned right, unsigned attr)
{
    uint32_t base = v->base + page * v->page_bytes;
    unsigned x, y;
    if (v->model == VIDEO_PLANAR)
        video_indexed(fw, VGA_GFX, 5, 2);
    for (y = row * v->char_height; y < (row + 1) * v->char_height; y++) {
        uint8_t line[320];
        if (v->model == VIDEO_PLANAR)
            for (x = left; x <= right; x++)
                fw_st8(fw, base + y * v->pitch + x, attr & 15);
        else if (v->model == VIDEO_CGA) {
            memset(line, v->bits == 2 ? (int)((attr & 3) * 0x55) : (attr & 1 ? 0xFF : 0), sizeof line);
            fw_write(fw, v->base + (y & 1) * 0x2000u + (y >> 1) * 80 + left * v->bits, line, EMU_MIN((right - left + 1) * v->bits, 80u));
        } else if (v->model == VIDEO_PACKED) {
            memset(line, (int)attr, sizeof line);
            fw_write(fw, v->base + y * 320 + left * 8, line, EMU_MIN((right - left + 1) * 8, 320u));
        } else if (v->base) {
            uint8_t wide[512 * 32];
            unsigned bytes = (v->bits + 7) / 8 * 8, n = EMU_MIN((right - left + 1) * bytes, (unsigned)sizeof wide);
            memset(wide, 0, n);
            mem_write(fw->emu, v->base + (uint64_t)y * v->pitch + left * bytes, wide, n);
        }
    }
    if (v->model == VIDEO_PLANAR)
        video_indexed(fw, VGA_GFX, 5, 0);
}

static void video_scroll(struct fw *fw, const struct video_now *v, unsigned page, unsigned lines, bool up, unsigned attr, unsigned top, unsigned left, unsigned bottom, unsigned right)
{
    unsigned height, i, k;
    uint8_t row[512 * 2];
    if (right >= v->columns)
        right = v->columns - 1;
    if (bottom >= v->rows)
        bottom = v->rows - 1;
    if (top > bottom || left > right)
        return;
    height = bottom - top + 1;
    if (!lines || lines > height)
        lines = height;
    for (i = 0; i < height - lines; i++) {
        unsigned to = up ? top + i : bottom - i, from = up ? to + lines : to - lines;
        if (v->model == VIDEO_TEXT) {
            fw_read(fw, video_cell(v, page, from, left), row, (right - left + 1) * 2);
            fw_write(fw, video_cell(v, page, to, left), row, (right - left + 1) * 2);
        } else
            video_copy_lines(fw, v, page, to, from, left, right);
    }
    for (k = 0; k < right - left + 1; k++)
        st16le(row + 2 * k, (uint16_t)(0x20 | attr << 8));
    for (i = 0; i < lines; i++) {
        unsigned at = up ? bottom - i : top + i;
        if (v->model == VIDEO_TEXT)
            fw_write(fw, video_cell(v, page, at, left), row, (right - left + 1) * 2);
        else
            video_clear_lines(fw, v, page, at, left, right, attr);
    }
}

/* Control characters, wrap and scroll; attr used where with_attr or in graphics. */
static void video_teletype_at(struct fw *fw, const struct video_now *v, unsigned page, unsigned ch, unsigned attr, bool with_attr)
{
    unsigned pos = fw_ld16(fw, BDA_CURSOR_POS + 2 * page), row = pos >> 8, column = pos & 0xFF;
    switch (ch) {
    case 0x07: return; /* bell: the speaker is left alone */
    case 0x08:
        if (column)
            column--;
        break;
    case 0x0A: row++; break;
    case 0x0D: column = 0; break;
    default:
        video_put_char(fw, v, page, row, column, ch, attr, with_attr);
        if (++column >= v->columns)
            column = 0, row++;
        break;
    }
    if (row >= v->rows) {
        unsigned fill = 0;
        if (v->model == VIDEO_TEXT)
            fill = fw_ld16(fw, video_cell(v, page, v->rows - 1, 0)) >> 8;
        video_scroll(fw, v, page, 1, true, fill, 0, 0, v->rows - 1, v->columns - 1);
        row = v->rows - 1;
    }
    video_cursor_set(fw, page, row, column);
}

EMU_PRIV void fw_video_teletype(struct fw *fw, uint8_t ch)
{
    struct video_now v;
    video_get(fw, &v);
    video_teletype_at(fw, &v, fw_ld8(fw, BDA_VIDEO_PAGE) & 7u, ch, 7, false);
}

static void video_set_page(struct fw *fw, unsigned page)
{
    struct video_now v;
    unsigned start, crtc = video_crtc(fw);
    video_get(fw, &v);
    if (page > 7 || v.model == VIDEO_DIRECT)
        return;
    start = page * v.page_bytes;
    fw_st8(fw, BDA_VIDEO_PAGE, page);
    fw_st16(fw, BDA_VIDEO_PAGE_START, start);
    if (v.model == VIDEO_TEXT || v.model == VIDEO_CGA)
        start /= 2;
    video_indexed(fw, crtc, 0x0C, start >> 8 & 0xFF);
    video_indexed(fw, crtc, 0x0D, start & 0xFF);
    video_cursor_update(fw, page);
}

/* ================= AH=0Bh, 10h: colours ================= */

static void video_0b(struct fw *fw, struct fw_regs *r)
{
    unsigned bl = fw_lo(r->ebx), i, palette = fw_ld8(fw, BDA_CGA_PALETTE);
    if (fw_hi(r->ebx) == 0) {
        unsigned colour = (bl & 15) | (bl & 8) << 1;
        video_attr_set(fw, 0x11, colour & 0x17);
        if (fw_ld8(fw, BDA_VIDEO_MODE) <= 3) {
            video_attr_on(fw);
            return;
        }
        video_attr_set(fw, 0, colour & 0x17);
        for (i = 1; i < 4; i++)
            video_attr_set(fw, i, (video_attr_get(fw, i) & ~0x10u) | (bl & 0x10));
        fw_st8(fw, BDA_CGA_PALETTE, (palette & 0xE0u) | (bl & 0x1Fu));
    } else if (fw_hi(r->ebx) == 1) {
        for (i = 1; i < 4; i++)
            video_attr_set(fw, i, (video_attr_get(fw, i) & ~1u) | (bl & 1u));
        fw_st8(fw, BDA_CGA_PALETTE, (palette & 0xDFu) | (bl & 1 ? 0x20u : 0));
    }
    video_attr_on(fw);
}

static void video_grey(struct fw *fw, unsigned first, unsigned count)
{
    uint8_t rgb[3];
    for (; count && first < 256; count--, first++) {
        video_dac_read(fw, first, rgb);
        rgb[0] = rgb[1] = rgb[2] = (uint8_t)((rgb[0] * 77 + rgb[1] * 151 + rgb[2] * 28) / 256);
        video_dac_write(fw, first, rgb);
    }
}

static void video_10(struct fw *fw, struct fw_regs *r)
{
    unsigned bl = fw_lo(r->ebx), bh = fw_hi(r->ebx), i, first, count;
    uint8_t bytes[768];
    switch (fw_lo(r->eax)) {
    case 0x00:
        if (bl <= 0x14)
            video_attr_set(fw, bl, bh);
        break;
    case 0x01: video_attr_set(fw, 0x11, bh); break;
    case 0x02:
        if (!fw_user_read(fw, r->es, (uint16_t)r->edx, bytes, 17))
            return;
        for (i = 0; i < 16; i++)
            video_attr_set(fw, i, bytes[i]);
        video_attr_set(fw, 0x11, bytes[16]);
        break;
    case 0x03: video_attr_set(fw, 0x10, (video_attr_get(fw, 0x10) & ~8u) | (bl & 1u) << 3); break;
    case 0x07: fw_put_hi(&r->ebx, bl <= 0x14 ? video_attr_get(fw, bl) : 0); break;
    case 0x08: fw_put_hi(&r->ebx, video_attr_get(fw, 0x11)); break;
    case 0x09:
        for (i = 0; i < 16; i++)
            bytes[i] = (uint8_t)video_attr_get(fw, i);
        bytes[16] = (uint8_t)video_attr_get(fw, 0x11);
        video_attr_on(fw);
        fw_user_write(fw, r->es, (uint16_t)r->edx, bytes, 17);
        return;
    case 0x10:
        bytes[0] = fw_hi(r->edx), bytes[1] = fw_hi(r->ecx), bytes[2] = fw_lo(r->ecx);
        video_dac_write(fw, bl, bytes);
        return;
    case 0x12:
        first = r->ebx & 0xFF, count = EMU_MIN(r->ecx & 0xFFFF, (uint32_t)256);
        if (!fw_user_read(fw, r->es, (uint16_t)r->edx, bytes, count * 3))
            return;
        for (i = 0; i < count && first + i < 256; i++)
            video_dac_write(fw, first + i, bytes + 3 * i);
        return;
    case 0x13:
        i = video_attr_get(fw, 0x10);
        if (bl == 0)
            video_attr_set(fw, 0x10, (i & 0x7Fu) | (bh & 1u) << 7);
        else if (bl == 1)
            video_attr_set(fw, 0x14, i & 0x80 ? bh & 15u : (bh << 2) & 15u);
        break;
    case 0x15:
        video_dac_read(fw, bl, bytes);
        fw_put_hi(&r->edx, bytes[0]);
        fw_put_hi(&r->ecx, bytes[1]);
        fw_put_lo(&r->ecx, bytes[2]);
        return;
    case 0x17:
        first = r->ebx & 0xFF, count = EMU_MIN(r->ecx & 0xFFFF, (uint32_t)256);
        for (i = 0; i < count && first + i < 256; i++)
            video_dac_read(fw, first + i, bytes + 3 * i);
        fw_user_write(fw, r->es, (uint16_t)r->edx, bytes, (size_t)i * 3);
        return;
    case 0x18: fw_outb(fw, VGA_DAC_MASK, bl); return;
    case 0x19: fw_put_lo(&r->ebx, fw_inb(fw, VGA_DAC_MASK)); return;
    case 0x1A:
        i = video_attr_get(fw, 0x10);
        fw_put_lo(&r->ebx, i >> 7);
        fw_put_hi(&r->ebx, i & 0x80 ? video_attr_get(fw, 0x14) & 15 : (video_attr_get(fw, 0x14) & 15) >> 2);
        break;
    case 0x1B: video_grey(fw, r->ebx & 0xFF, r->ecx & 0xFFFF); return;
    default: return;
    }
    video_attr_on(fw);
}

/* ================= AH=11h: fonts ================= */

static void video_11(struct fw *fw, struct fw_regs *r)
{
    unsigned al = fw_lo(r->eax), block = fw_lo(r->ebx), height = fw_hi(r->ebx), count = r->ecx & 0xFFFF, first = r->edx & 0xFFFF;
    static uint8_t const rows_of[4] = { 0, 14, 25, 43 };
    uint32_t vector;
    switch (al) {
    case 0x00: case 0x10: {
        uint8_t glyphs[256 * 32];
        if (!height || height > 32 || first > 255)
            break;
        count = EMU_MIN(count, 256 - first);
        if (!fw_user_read(fw, r->es, (uint16_t)r->ebp, glyphs, (size_t)count * height))
            return;
        video_load_font(fw, glyphs, first, count, height, block);
        if (al == 0x10)
            video_set_char_height(fw, height);
        break;
    }
    case 0x01: case 0x11: case 0x02: case 0x12: case 0x04: case 0x14: {
        unsigned h = (al & 15) == 1 ? 14 : (al & 15) == 2 ? 8 : 16;
        video_load_rom_font(fw, h, block);
        if (al & 0x10)
            video_set_char_height(fw, h);
        break;
    }
    case 0x03: video_indexed(fw, VGA_SEQ, 3, block); break;
    case 0x20:
        fw_st16(fw, 0x1F * 4, r->ebp & 0xFFFF);
        fw_st16(fw, 0x1F * 4 + 2, r->es);
        break;
    case 0x21: case 0x22: case 0x23: case 0x24: {
        unsigned rows = block ? (block < 4 ? rows_of[block] : 25) : fw_lo(r->edx), h = al == 0x21 ? count : al == 0x22 ? 14 : al == 0x23 ? 8 : 16;
        if (al == 0x21) {
            fw_st16(fw, 0x43 * 4, r->ebp & 0xFFFF);
            fw_st16(fw, 0x43 * 4 + 2, r->es);
        } else
            fw_st32(fw, 0x43 * 4, (uint32_t)(FW_VGA_ROM >> 4) << 16 | (video_rom_font(fw, h) - FW_VGA_ROM));
        fw_st16(fw, BDA_CHAR_HEIGHT, h & 0xFF);
        if (rows)
            fw_st8(fw, BDA_VIDEO_ROWS, rows - 1);
        break;
    }
    case 0x30:
        switch (height) {
        case 0: vector = fw_ld32(fw, 0x1F * 4); break;
        case 1: vector = fw_ld32(fw, 0x43 * 4); break;
        case 2: case 5: vector = 0xC0000000u | fw->font14_off; break;
        case 3: vector = 0xC0000000u | fw->font8_off; break;
        case 4: vector = 0xC0000000u | (fw->font8_off + 128u * 8); break;
        default: vector = 0xC0000000u | fw->font16_off; break;
        }
        r->es = (uint16_t)(vector >> 16);
        fw_put_x(&r->ebp, vector & 0xFFFF);
        fw_put_x(&r->ecx, fw_ld8(fw, BDA_CHAR_HEIGHT));
        fw_put_lo(&r->edx, fw_ld8(fw, BDA_VIDEO_ROWS));
        break;
    default: break;
    }
}

/* ================= AH=12h, 13h, 1Ah, 1Bh, 1Ch ================= */

static void video_12(struct fw *fw, struct fw_regs *r)
{
    unsigned al = fw_lo(r->eax), modeset = fw_ld8(fw, BDA_VIDEO_MODESET);
    switch (fw_lo(r->ebx)) {
    case 0x10:
        fw_put_x(&r->ebx, (video_crtc(fw) == 0x3B4 ? 0x100u : 0) | 3); /* 256 KiB */
        fw_put_x(&r->ecx, fw_ld8(fw, BDA_VIDEO_SWITCHES) & 15u);
        return;
    case 0x20: return; /* alternate print screen */
    case 0x30: /* scan lines: kept for the next mode set */
        if (al > 2)
            return;
        modeset = (modeset & ~0x90u) | (al == 0 ? 0x80u : al == 2 ? 0x10u : 0);
        fw_st8(fw, BDA_VIDEO_MODESET, modeset);
        break;
    case 0x31: fw_st8(fw, BDA_VIDEO_MODESET, (modeset & ~8u) | (al & 1u) << 3); break;
    case 0x32: fw_outb(fw, VGA_MISC_WRITE, (fw_inb(fw, VGA_MISC_READ) & ~2u) | (al & 1 ? 0 : 2u)); break;
    case 0x33: fw_st8(fw, BDA_VIDEO_MODESET, (modeset & ~2u) | (al & 1 ? 0 : 2u)); break;
    case 0x34: fw_st8(fw, BDA_VIDEO_CONTROL, (fw_ld8(fw, BDA_VIDEO_CONTROL) & ~1u) | (al & 1u)); break;
    case 0x35: break;
    case 0x36: video_indexed(fw, VGA_SEQ, 1, (video_indexed_read(fw, VGA_SEQ, 1) & ~0x20u) | (al & 1u) << 5); break;
    default: return;
    }
    fw_put_lo(&r->eax, 0x12);
}

static void video_13(struct fw *fw, struct fw_regs *r)
{
    struct video_now v;
    unsigned al = fw_lo(r->eax), page = fw_hi(r->ebx) & 7u, attr = fw_lo(r->ebx), count = r->ecx & 0xFFFF, i, saved;
    uint8_t text[4096];
    size_t bytes = (size_t)count * (al & 2 ? 2 : 1);
    if (bytes > sizeof text)
        bytes = sizeof text;
    if (!fw_user_read(fw, r->es, (uint16_t)r->ebp, text, bytes))
        return;
    video_get(fw, &v);
    saved = fw_ld16(fw, BDA_CURSOR_POS + 2 * page);
    video_cursor_set(fw, page, fw_hi(r->edx) == 0xFF ? saved >> 8 : fw_hi(r->edx), fw_hi(r->edx) == 0xFF ? saved & 0xFF : fw_lo(r->edx));
    for (i = 0; i < bytes; i += al & 2 ? 2 : 1)
        video_teletype_at(fw, &v, page, text[i], al & 2 && i + 1 < bytes ? text[i + 1] : attr, true);
    if (!(al & 1))
        video_cursor_set(fw, page, saved >> 8, saved & 0xFF);
}

static void video_1b(struct fw *fw, struct fw_regs *r)
{
    uint8_t t[64];
    struct video_now v;
    if (r->ebx & 0xFFFF)
        return;
    memset(t, 0, sizeof t);
    video_get(fw, &v);
    st16le(t, fw->static_off);
    st16le(t + 2, FW_VGA_ROM >> 4);
    fw_read(fw, BDA_VIDEO_MODE, t + 4, 30);
    t[0x22] = fw_ld8(fw, BDA_VIDEO_ROWS);
    t[0x22] = (uint8_t)(t[0x22] + 1);
    st16le(t + 0x23, fw_ld16(fw, BDA_CHAR_HEIGHT));
    t[0x25] = fw_ld8(fw, BDA_VIDEO_DCC);
    st16le(t + 0x27, v.m->bits >= 8 ? 256 : (uint16_t)(1u << v.m->bits));
    t[0x29] = v.m->pages;
    t[0x2A] = v.m->height == 350 ? 1 : v.m->height == 480 ? 3 : v.m->height == 200 ? 0 : 2;
    t[0x2D] = 0x21 | ((fw_ld8(fw, BDA_VIDEO_MODESET) & 8) ? 8 : 0);
    t[0x31] = 3; /* 256 KiB */
    fw_user_write(fw, r->es, (uint16_t)r->edi, t, sizeof t);
    fw_put_lo(&r->eax, 0x1B);
}

/* State blocks in the caller's buffer, in the order of the bits of CX: 128 bytes of registers, 128 of BDA, 800 of DAC, 64 of VBE. */
enum { STATE_HW = 1, STATE_BDA = 2, STATE_DAC = 4, STATE_VBE = 8, STATE_HW_BYTES = 128, STATE_BDA_BYTES = 128, STATE_DAC_BYTES = 800, STATE_VBE_BYTES = 64 };
static unsigned video_state_bytes(unsigned what)
{
    return (what & STATE_HW ? STATE_HW_BYTES : 0u) + (what & STATE_BDA ? STATE_BDA_BYTES : 0u) + (what & STATE_DAC ? STATE_DAC_BYTES : 0u) + (what & STATE_VBE ? STATE_VBE_BYTES : 0u);
}

static void video_state_save(struct fw *fw, unsigned what, uint8_t *p)
{
    unsigned i, crtc = video_crtc(fw);
    memset(p, 0, video_state_bytes(what));
    if (what & STATE_HW) {
        p[0] = fw_inb(fw, VGA_MISC_READ);
        p[1] = fw_inb(fw, VGA_SEQ), p[2] = fw_inb(fw, VGA_GFX), p[3] = fw_inb(fw, crtc);
        for (i = 0; i < 5; i++)
            p[8 + i] = (uint8_t)video_indexed_read(fw, VGA_SEQ, i);
        for (i = 0; i < 25; i++)
            p[16 + i] = (uint8_t)video_indexed_read(fw, crtc, i);
        for (i = 0; i < 9; i++)
            p[48 + i] = (uint8_t)video_indexed_read(fw, VGA_GFX, i);
        for (i = 0; i < 21; i++)
            p[64 + i] = (uint8_t)video_attr_get(fw, i);
        video_attr_on(fw);
        st16le(p + 96, (uint16_t)crtc);
        p += STATE_HW_BYTES;
    }
    if (what & STATE_BDA) {
        fw_read(fw, BDA_VIDEO_MODE, p, 30);
        fw_read(fw, BDA_VIDEO_ROWS, p + 32, 7);
        fw_read(fw, BDA_VIDEO_SAVE_TABLE, p + 40, 4);
        fw_read(fw, 0x1F * 4, p + 44, 4);
        fw_read(fw, 0x43 * 4, p + 48, 4);
        p += STATE_BDA_BYTES;
    }
    if (what & STATE_DAC) {
        for (i = 0; i < 256; i++)
            video_dac_read(fw, i, p + 3 * i);
        p[768] = fw_inb(fw, VGA_DAC_MASK);
        p += STATE_DAC_BYTES;
    }
    if (what & STATE_VBE)
        for (i = 0; i < 10; i++)
            st16le(p + 2 * i, (uint16_t)video_dispi(fw, i));
}

static void video_state_restore(struct fw *fw, unsigned what, const uint8_t *p)
{
    unsigned i, crtc;
    const uint8_t *vbe = p + video_state_bytes(what & 7);
    if ((what & STATE_VBE) && fw->has_vga) {
        video_dispi_set(fw, DISPI_ENABLE, 0);
        if (ld16le(vbe + 2 * DISPI_ENABLE) & DISPI_ENABLED) {
            for (i = DISPI_XRES; i <= DISPI_BPP; i++)
                video_dispi_set(fw, i, ld16le(vbe + 2 * i));
            video_dispi_set(fw, DISPI_ENABLE, ld16le(vbe + 2 * DISPI_ENABLE) | DISPI_NO_CLEAR);
            for (i = DISPI_BANK; i <= DISPI_Y_OFFSET; i++)
                if (i != DISPI_VIRT_HEIGHT)
                    video_dispi_set(fw, i, ld16le(vbe + 2 * i));
        }
    }
    if (what & STATE_HW) {
        crtc = ld16le(p + 96) == 0x3B4 ? 0x3B4 : 0x3D4;
        fw_outb(fw, VGA_MISC_WRITE, p[0]);
        fw_st16(fw, BDA_CRTC_PORT, crtc);
        for (i = 1; i < 5; i++)
            video_indexed(fw, VGA_SEQ, i, p[8 + i]);
        video_indexed(fw, VGA_SEQ, 0, 3);
        video_indexed(fw, crtc, 0x11, 0);
        for (i = 0; i < 25; i++)
            video_indexed(fw, crtc, i, p[16 + i]);
        for (i = 0; i < 9; i++)
            video_indexed(fw, VGA_GFX, i, p[48 + i]);
        for (i = 0; i < 21; i++)
            video_attr_set(fw, i, p[64 + i]);
        video_attr_on(fw);
        fw_outb(fw, VGA_SEQ, p[1]), fw_outb(fw, VGA_GFX, p[2]), fw_outb(fw, crtc, p[3]);
        p += STATE_HW_BYTES;
    }
    if (what & STATE_BDA) {
        fw_write(fw, BDA_VIDEO_MODE, p, 30);
        fw_write(fw, BDA_VIDEO_ROWS, p + 32, 7);
        fw_write(fw, BDA_VIDEO_SAVE_TABLE, p + 40, 4);
        fw_write(fw, 0x1F * 4, p + 44, 4);
        fw_write(fw, 0x43 * 4, p + 48, 4);
        p += STATE_BDA_BYTES;
    }
    if (what & STATE_DAC) {
        for (i = 0; i < 256; i++)
            video_dac_write(fw, i, p + 3 * i);
        fw_outb(fw, VGA_DAC_MASK, p[768]);
    }
}

/* AH=1Ch, and VBE 4F04h whose function number is in DL. False: no such function, or (relay) not yet. */
static bool video_state(struct fw *fw, struct fw_regs *r, unsigned fn, unsigned what)
{
    uint8_t buf[STATE_HW_BYTES + STATE_BDA_BYTES + STATE_DAC_BYTES + STATE_VBE_BYTES];
    switch (fn) {
    case 0: fw_put_x(&r->ebx, (video_state_bytes(what) + 63) / 64); return true;
    case 1:
        video_state_save(fw, what, buf);
        fw_user_write(fw, r->es, (uint16_t)r->ebx, buf, video_state_bytes(what));
        return true;
    case 2:
        if (!fw_user_read(fw, r->es, (uint16_t)r->ebx, buf, video_state_bytes(what)))
            return true;
        video_state_restore(fw, what, buf);
        return true;
    default: return false;
    }
}

/* ================= VBE ================= */

struct fw_vbe_mode {
    uint16_t number, width, height;
    uint8_t bits;
};
/* VESA's own numbers, then those that the stdvga's BIOSes gave to later sizes. */
static const struct fw_vbe_mode vbe_modes[] = {
    { 0x100, 640, 400, 8 },    { 0x101, 640, 480, 8 },    { 0x103, 800, 600, 8 },    { 0x105, 1024, 768, 8 },   { 0x107, 1280, 1024, 8 },
    { 0x10D, 320, 200, 15 },   { 0x10E, 320, 200, 16 },   { 0x10F, 320, 200, 24 },   { 0x110, 640, 480, 15 },   { 0x111, 640, 480, 16 },
    { 0x112, 640, 480, 24 },   { 0x113, 800, 600, 15 },   { 0x114, 800, 600, 16 },   { 0x115, 800, 600, 24 },   { 0x116, 1024, 768, 15 },
    { 0x117, 1024, 768, 16 },  { 0x118, 1024, 768, 24 },  { 0x119, 1280, 1024, 15 }, { 0x11A, 1280, 1024, 16 }, { 0x11B, 1280, 1024, 24 },
    { 0x11C, 1600, 1200, 8 },  { 0x11D, 1600, 1200, 15 }, { 0x11E, 1600, 1200, 16 }, { 0x11F, 1600, 1200, 24 }, { 0x140, 320, 200, 32 },
    { 0x141, 640, 400, 32 },   { 0x142, 640, 480, 32 },   { 0x143, 800, 600, 32 },   { 0x144, 1024, 768, 32 },  { 0x145, 1280, 1024, 32 },
    { 0x146, 320, 200, 8 },    { 0x147, 1600, 1200, 32 }, { 0x148, 1152, 864, 8 },   { 0x149, 1152, 864, 15 },  { 0x14A, 1152, 864, 16 },
    { 0x14B, 1152, 864, 24 },  { 0x14C, 1152, 864, 32 },  { 0x175, 1280, 768, 16 },  { 0x176, 1280, 768, 24 },  { 0x177, 1280, 768, 32 },
    { 0x178, 1280, 800, 16 },  { 0x179, 1280, 800, 24 },  { 0x17A, 1280, 800, 32 },  { 0x17B, 1280, 960, 16 },  { 0x17C, 1280, 960, 24 },
    { 0x17D, 1280, 960, 32 },  { 0x17E, 1440, 900, 16 },  { 0x17F, 1440, 900, 24 },  { 0x180, 1440, 900, 32 },  { 0x181, 1400, 1050, 16 },
    { 0x182, 1400, 1050, 24 }, { 0x183, 1400, 1050, 32 }, { 0x184, 1680, 1050, 16 }, { 0x185, 1680, 1050, 24 }, { 0x186, 1680, 1050, 32 },
    { 0x187, 1920, 1200, 16 }, { 0x188, 1920, 1200, 24 }, { 0x189, 1920, 1200, 32 }, { 0x18A, 2560, 1600, 16 }, { 0x18B, 2560, 1600, 24 },
    { 0x18C, 2560, 1600, 32 }, { 0x18D, 1280, 720, 16 },  { 0x18E, 1280, 720, 24 },  { 0x18F, 1280, 720, 32 },  { 0x190, 1920, 1080, 16 },
    { 0x191, 1920, 1080, 24 }, { 0x192, 1920, 1080, 32 },
};

static uint32_t vbe_pitch(const struct fw_vbe_mode *m) { return m->width * ((m->bits + 7u) / 8); }

static const struct fw_vbe_mode *vbe_find(struct fw *fw, unsigned number)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(vbe_modes); i++)
        if (vbe_modes[i].number == number && vbe_pitch(&vbe_modes[i]) * vbe_modes[i].height <= fw->vram_bytes)
            return &vbe_modes[i];
    return NULL;
}

static unsigned vbe_current(struct fw *fw)
{
    unsigned w = video_dispi(fw, DISPI_XRES), h = video_dispi(fw, DISPI_YRES), bits = video_dispi(fw, DISPI_BPP);
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(vbe_modes); i++)
        if (vbe_modes[i].width == w && vbe_modes[i].height == h && vbe_modes[i].bits == bits)
            return vbe_modes[i].number | (video_dispi(fw, DISPI_ENABLE) & DISPI_LFB ? 0x4000u : 0);
    return 0xFFFF;
}

static bool vbe_info(struct fw *fw, struct fw_regs *r)
{
    uint8_t t[512];
    uint32_t rom = (uint32_t)(FW_VGA_ROM >> 4) << 16;
    size_t size = 256;
    if (!fw_user_read(fw, r->es, (uint16_t)r->edi, t, 4))
        return true;
    if (!memcmp(t, "VBE2", 4))
        size = 512;
    memset(t, 0, sizeof t);
    memcpy(t, "VESA", 4);
    st16le(t + 4, 0x0300);
    st32le(t + 6, rom | fw->vbe_oem_off);
    st32le(t + 10, 1); /* DAC width can be switched */
    st32le(t + 14, rom | fw->vbe_modes_off);
    st16le(t + 18, (uint16_t)(fw->vram_bytes >> 16));
    if (size == 512) {
        st16le(t + 20, 0x0100);
        st32le(t + 22, rom | fw->vbe_oem_off);
        st32le(t + 26, rom | fw->vbe_oem_off);
        st32le(t + 30, rom | fw->vbe_oem_off);
    }
    fw_user_write(fw, r->es, (uint16_t)r->edi, t, size);
    return true;
}

static void vbe_masks(uint8_t *p, unsigned bits)
{
    static const uint8_t m15[8] = { 5, 10, 5, 5, 5, 0, 1, 15 }, m16[8] = { 5, 11, 6, 5, 5, 0, 0, 0 }, m24[8] = { 8, 16, 8, 8, 8, 0, 0, 0 }, m32[8] = { 8, 16, 8, 8, 8, 0, 8, 24 };
    if (bits > 8)
        memcpy(p, bits == 15 ? m15 : bits == 16 ? m16 : bits == 24 ? m24 : m32, 8);
}

static bool vbe_mode_info(struct fw *fw, struct fw_regs *r)
{
    const struct fw_vbe_mode *m = vbe_find(fw, r->ecx & 0x1FF);
    uint8_t t[256];
    uint32_t pages;
    if (!m)
        return false;
    memset(t, 0, sizeof t);
    pages = fw->vram_bytes / (vbe_pitch(m) * m->height) - 1;
    if (pages > 255)
        pages = 255;
    st16le(t, (uint16_t)(0x1B | (fw->lfb_gpa ? 0x80 : 0))); /* there, colour, graphics, linear */
    t[2] = 7;           /* window A: movable, readable, writable */
    st16le(t + 4, 64);  /* granularity KiB */
    st16le(t + 6, 64);
    st16le(t + 8, 0xA000);
    st32le(t + 12, (uint32_t)(FW_VGA_ROM >> 4) << 16 | fw->vbe_pm_off);
    st16le(t + 16, (uint16_t)vbe_pitch(m));
    st16le(t + 18, m->width);
    st16le(t + 20, m->height);
    t[22] = 8, t[23] = 16, t[24] = 1, t[25] = m->bits, t[26] = 1;
    t[27] = m->bits == 8 ? 4 : 6;
    t[29] = (uint8_t)pages;
    t[30] = 1;
    vbe_masks(t + 31, m->bits);
    t[39] = m->bits == 32 ? 2 : 0; /* spare bits may be used */
    st32le(t + 40, fw->lfb_gpa);
    st16le(t + 50, (uint16_t)vbe_pitch(m));
    t[52] = t[53] = (uint8_t)pages;
    vbe_masks(t + 54, m->bits);
    st32le(t + 62, 150000000);
    fw_user_write(fw, r->es, (uint16_t)r->edi, t, sizeof t);
    return true;
}

static bool vbe_set_mode(struct fw *fw, struct fw_regs *r)
{
    unsigned bx = r->ebx & 0xFFFF, number = bx & 0x1FF;
    const struct fw_vbe_mode *m;
    unsigned crtc;
    if (number < 0x100) {
        if (!video_mode_find(number & 0x7F))
            return false;
        video_set_mode(fw, number & 0x7F, !(bx & 0x8000));
        return true;
    }
    m = vbe_find(fw, number);
    if (!m || ((bx & 0x4000) && !fw->lfb_gpa))
        return false;
    /* the VGA core in its 256-colour chained state, window at A0000h, so that banked access works */
    if (video_crtc(fw) != 0x3D4)
        video_set_mode(fw, 3, true);
    crtc = video_crtc(fw);
    if (m->bits == 8)
        video_load_palette(fw, PALETTE_VGA);
    video_dispi_set(fw, DISPI_ENABLE, 0);
    video_dispi_set(fw, DISPI_XRES, m->width);
    video_dispi_set(fw, DISPI_YRES, m->height);
    video_dispi_set(fw, DISPI_BPP, m->bits);
    video_dispi_set(fw, DISPI_ENABLE, DISPI_ENABLED | (bx & 0x4000 ? DISPI_LFB : 0) | (bx & 0x8000 ? DISPI_NO_CLEAR : 0));
    video_dispi_set(fw, DISPI_BANK, 0);
    video_indexed(fw, crtc, 0x11, video_indexed_read(fw, crtc, 0x11) & 0x7Fu);
    video_indexed(fw, VGA_GFX, 5, 0x40);
    video_indexed(fw, VGA_GFX, 6, 0x05);
    video_indexed(fw, VGA_SEQ, 2, 0x0F);
    video_indexed(fw, VGA_SEQ, 4, 0x0E);
    video_attr_set(fw, 0x10, 0x41);
    video_attr_on(fw);
    fw_st16(fw, BDA_VIDEO_COLUMNS, m->width / 8u);
    fw_st8(fw, BDA_VIDEO_ROWS, m->height / 16u - 1);
    fw_st16(fw, BDA_CHAR_HEIGHT, 16);
    fw_st16(fw, BDA_CURSOR_POS, 0);
    fw_st8(fw, BDA_VIDEO_PAGE, 0);
    fw_st8(fw, BDA_VIDEO_CONTROL, 0x60 | (bx & 0x8000 ? 0x80u : 0));
    return true;
}

static bool vbe_bank(struct fw *fw, struct fw_regs *r)
{
    if (fw_lo(r->ebx) != 0 || !video_vbe_on(fw))
        return false;
    if (fw_hi(r->ebx) == 0) {
        if ((r->edx & 0xFFFF) >= fw->vram_bytes >> 16)
            return false;
        video_dispi_set(fw, DISPI_BANK, r->edx & 0xFFFF);
    } else if (fw_hi(r->ebx) == 1)
        fw_put_x(&r->edx, video_dispi(fw, DISPI_BANK));
    else
        return false;
    return true;
}

static bool vbe_line_length(struct fw *fw, struct fw_regs *r)
{
    unsigned bytes = (video_dispi(fw, DISPI_BPP) + 7) / 8, width, height = video_dispi(fw, DISPI_YRES), limit;
    if (!video_vbe_on(fw) || !bytes || !height)
        return false;
    limit = EMU_MIN(fw->vram_bytes / height / bytes, 0xFFF8u);
    switch (fw_lo(r->ebx)) {
    case 0: case 2:
        width = r->ecx & 0xFFFF;
        if (fw_lo(r->ebx) == 2)
            width = (width + bytes - 1) / bytes;
        if (width > limit || width < video_dispi(fw, DISPI_XRES))
            return false;
        video_dispi_set(fw, DISPI_VIRT_WIDTH, width);
        break;
    case 1: break;
    case 3:
        fw_put_x(&r->ebx, limit * bytes);
        fw_put_x(&r->ecx, limit);
        fw_put_x(&r->edx, fw->vram_bytes / (limit * bytes));
        return true;
    default: return false;
    }
    width = video_dispi(fw, DISPI_VIRT_WIDTH);
    if (!width)
        return false;
    fw_put_x(&r->ebx, width * bytes);
    fw_put_x(&r->ecx, width);
    fw_put_x(&r->edx, EMU_MIN(fw->vram_bytes / (width * bytes), 0xFFFFu));
    return true;
}

static bool vbe_start(struct fw *fw, struct fw_regs *r)
{
    unsigned bytes = (video_dispi(fw, DISPI_BPP) + 7) / 8, width = video_dispi(fw, DISPI_VIRT_WIDTH);
    if (!video_vbe_on(fw) || !bytes || !width)
        return false;
    switch (fw_lo(r->ebx)) {
    case 0x00: case 0x80:
        video_dispi_set(fw, DISPI_X_OFFSET, r->ecx & 0xFFFF);
        video_dispi_set(fw, DISPI_Y_OFFSET, r->edx & 0xFFFF);
        return true;
    case 0x01:
        fw_put_hi(&r->ebx, 0);
        fw_put_x(&r->ecx, video_dispi(fw, DISPI_X_OFFSET));
        fw_put_x(&r->edx, video_dispi(fw, DISPI_Y_OFFSET));
        return true;
    case 0x02: case 0x82: /* VBE 3: byte offset in ECX */
        video_dispi_set(fw, DISPI_X_OFFSET, r->ecx % (width * bytes) / bytes);
        video_dispi_set(fw, DISPI_Y_OFFSET, r->ecx / (width * bytes));
        return true;
    case 0x04: fw_put_x(&r->ecx, 1); return true; /* the scheduled start has happened */
    default: return false;
    }
}

static bool vbe_dac_width(struct fw *fw, struct fw_regs *r)
{
    unsigned enable = video_dispi(fw, DISPI_ENABLE);
    if (fw_lo(r->ebx) == 0) {
        if (fw_hi(r->ebx) < 6)
            return false;
        enable = fw_hi(r->ebx) >= 8 ? enable | DISPI_8BIT_DAC : enable & ~(unsigned)DISPI_8BIT_DAC;
        video_dispi_set(fw, DISPI_ENABLE, enable | DISPI_NO_CLEAR);
    } else if (fw_lo(r->ebx) != 1)
        return false;
    fw_put_hi(&r->ebx, video_dispi(fw, DISPI_ENABLE) & DISPI_8BIT_DAC ? 8 : 6);
    return true;
}

static bool vbe_palette(struct fw *fw, struct fw_regs *r)
{
    unsigned count = r->ecx & 0xFFFF, first = r->edx & 0xFFFF, i;
    uint8_t bytes[1024], rgb[3];
    if (first > 255 || count > 256 - first)
        return false;
    switch (fw_lo(r->ebx)) {
    case 0x00: case 0x80:
        if (!fw_user_read(fw, r->es, (uint16_t)r->edi, bytes, (size_t)count * 4))
            return true;
        for (i = 0; i < count; i++) { /* stored blue, green, red, pad */
            rgb[0] = bytes[4 * i + 2], rgb[1] = bytes[4 * i + 1], rgb[2] = bytes[4 * i];
            video_dac_write(fw, first + i, rgb);
        }
        return true;
    case 0x01:
        for (i = 0; i < count; i++) {
            video_dac_read(fw, first + i, rgb);
            bytes[4 * i] = rgb[2], bytes[4 * i + 1] = rgb[1], bytes[4 * i + 2] = rgb[0], bytes[4 * i + 3] = 0;
        }
        fw_user_write(fw, r->es, (uint16_t)r->edi, bytes, (size_t)count * 4);
        return true;
    default: return false;
    }
}

static void vbe_service(struct fw *fw, struct fw_regs *r)
{
    bool ok = false, known = true;
    switch (fw_lo(r->eax)) {
    case 0x00: ok = vbe_info(fw, r); break;
    case 0x01: ok = vbe_mode_info(fw, r); break;
    case 0x02: ok = vbe_set_mode(fw, r); break;
    case 0x03:
        fw_put_x(&r->ebx, video_vbe_on(fw) ? vbe_current(fw) : fw_ld8(fw, BDA_VIDEO_MODE));
        ok = true;
        break;
    case 0x04: ok = video_state(fw, r, fw_lo(r->edx), r->ecx & 15); break;
    case 0x05: ok = vbe_bank(fw, r); break;
    case 0x06: ok = vbe_line_length(fw, r); break;
    case 0x07: ok = vbe_start(fw, r); break;
    case 0x08: ok = vbe_dac_width(fw, r); break;
    case 0x09: ok = vbe_palette(fw, r); break;
    case 0x10:
        if (fw_lo(r->ebx) == 0)
            fw_put_x(&r->ebx, 0x0F30), ok = true;
        else if (fw_lo(r->ebx) == 1)
            video_indexed(fw, VGA_SEQ, 1, (video_indexed_read(fw, VGA_SEQ, 1) & ~0x20u) | (fw_hi(r->ebx) ? 0x20u : 0)), ok = true;
        else if (fw_lo(r->ebx) == 2)
            fw_put_hi(&r->ebx, 0), ok = true;
        break;
    case 0x15: break; /* no EDID */
    default: known = false; break;
    }
    fw_put_lo(&r->eax, known ? 0x4F : fw_lo(r->eax));
    fw_put_hi(&r->eax, ok ? 0x00 : 0x01);
}

/* ================= INT 10h ================= */

static void video_write_chars(struct fw *fw, struct fw_regs *r, bool with_attr)
{
    struct video_now v;
    unsigned page = fw_hi(r->ebx) & 7u, pos = fw_ld16(fw, BDA_CURSOR_POS + 2 * page), row = pos >> 8, column = pos & 0xFF, count = r->ecx & 0xFFFF;
    video_get(fw, &v);
    count = EMU_MIN(count, v.columns * v.rows);
    for (; count && row < v.rows; count--) {
        video_put_char(fw, &v, v.model == VIDEO_DIRECT ? 0 : page, row, column, fw_lo(r->eax), fw_lo(r->ebx), with_attr);
        if (++column >= v.columns)
            column = 0, row++;
    }
}

EMU_PRIV unsigned fw_int10(struct fw *fw, struct fw_regs *r)
{
    struct video_now v;
    unsigned al = fw_lo(r->eax), page = fw_hi(r->ebx) & 7u;
    switch (fw_hi(r->eax)) {
    case 0x00:
        if (video_mode_find(al & 0x7F)) {
            video_set_mode(fw, al & 0x7F, !(al & 0x80));
            fw_put_lo(&r->eax, (al & 0x7F) > 7 ? 0x20 : (al & 0x7F) == 6 ? 0x3F : 0x30);
        }
        break;
    case 0x01: video_cursor_shape(fw, r->ecx & 0xFFFF); break;
    case 0x02: video_cursor_set(fw, page, fw_hi(r->edx), fw_lo(r->edx)); break;
    case 0x03:
        fw_put_x(&r->edx, fw_ld16(fw, BDA_CURSOR_POS + 2 * page));
        fw_put_x(&r->ecx, fw_ld16(fw, BDA_CURSOR_TYPE));
        fw_put_x(&r->eax, 0);
        break;
    case 0x04: fw_put_hi(&r->eax, 0); break;
    case 0x05: video_set_page(fw, al); break;
    case 0x06: case 0x07:
        video_get(fw, &v);
        video_scroll(fw, &v, v.model == VIDEO_DIRECT ? 0 : fw_ld8(fw, BDA_VIDEO_PAGE) & 7u, al, fw_hi(r->eax) == 6, fw_hi(r->ebx), fw_hi(r->ecx), fw_lo(r->ecx),
                     fw_hi(r->edx), fw_lo(r->edx));
        break;
    case 0x08:
        video_get(fw, &v);
        fw_put_x(&r->eax, video_read_char(fw, &v, page));
        break;
    case 0x09: video_write_chars(fw, r, true); break;
    case 0x0A: video_write_chars(fw, r, false); break;
    case 0x0B: video_0b(fw, r); break;
    case 0x0C: case 0x0D: {
        unsigned x = r->ecx & 0xFFFF, y = r->edx & 0xFFFF;
        video_get(fw, &v);
        if (v.model == VIDEO_TEXT || x >= v.columns * 8 || y >= v.rows * v.char_height + 15)
            break;
        if (v.model == VIDEO_DIRECT ? y >= video_dispi(fw, DISPI_YRES) : y >= v.m->height)
            break;
        if (fw_hi(r->eax) == 0x0C)
            video_put_pixel(fw, &v, v.model == VIDEO_DIRECT ? 0 : page, x, y, v.model == VIDEO_DIRECT && v.bits > 8 ? video_direct_colour(&v, al) : al);
        else
            fw_put_lo(&r->eax, video_get_pixel(fw, &v, v.model == VIDEO_DIRECT ? 0 : page, x, y));
        break;
    }
    case 0x0E:
        video_get(fw, &v);
        video_teletype_at(fw, &v, v.model == VIDEO_DIRECT ? 0 : fw_ld8(fw, BDA_VIDEO_PAGE) & 7u, al, v.model == VIDEO_TEXT ? 7 : fw_lo(r->ebx), false);
        break;
    case 0x0F:
        fw_put_lo(&r->eax, fw_ld8(fw, BDA_VIDEO_MODE) | (fw_ld8(fw, BDA_VIDEO_CONTROL) & 0x80u));
        fw_put_hi(&r->eax, fw_ld8(fw, BDA_VIDEO_COLUMNS));
        fw_put_hi(&r->ebx, fw_ld8(fw, BDA_VIDEO_PAGE));
        break;
    case 0x10: video_10(fw, r); break;
    case 0x11: video_11(fw, r); break;
    case 0x12: video_12(fw, r); break;
    case 0x13: video_13(fw, r); break;
    case 0x1A:
        if (al == 0) {
            fw_put_x(&r->ebx, fw_ld8(fw, BDA_VIDEO_DCC)); /* 8: VGA with colour screen, no second */
            fw_put_lo(&r->eax, 0x1A);
        } else if (al == 1) {
            fw_st8(fw, BDA_VIDEO_DCC, fw_lo(r->ebx));
            fw_put_lo(&r->eax, 0x1A);
        }
        break;
    case 0x1B: video_1b(fw, r); break;
    case 0x1C:
        if (video_state(fw, r, al, r->ecx & 7))
            fw_put_lo(&r->eax, 0x1C);
        break;
    case 0x4F:
        if (fw->has_vga)
            vbe_service(fw, r);
        break;
    default: break;
    }
    return FW_DONE;
}

/* ================= power-on: ROM image ================= */

struct video_rom {
    uint8_t bytes[FW_VGA_ROM_BYTES];
};

static uint16_t video_rom_add(uint8_t *rom, unsigned *at, const void *data, size_t size, unsigned align)
{
    unsigned here = (*at + align - 1) / align * align;
    memcpy(rom + here, data, size);
    *at = here + (unsigned)size;
    return (uint16_t)here;
}

/* Video parameter table: 29 entries of 64 bytes; which register set each holds. */
static void video_rom_parameters(struct fw *fw, uint8_t *rom, unsigned *at)
{
    static const uint8_t order[29] = { 0x00, 0x00, 0x03, 0x03, 0x04, 0x05, 0x06, 0x07, 0x03, 0x03, 0x03, 0x03, 0x03, 0x0D, 0x0E, 0x0F, 0x10, 0x0F, 0x10,
                                       0x00, 0x00, 0x03, 0x03, 0x01, 0x03, 0x07, 0x11, 0x12, 0x13 };
    uint8_t p[64], save[28];
    unsigned i;
    fw->params_off = (uint16_t)((*at + 15) & ~15u);
    for (i = 0; i < 29; i++) {
        const struct video_mode *m = video_mode_find(order[i]);
        const struct video_regs *g = &video_regs[m->regs];
        p[0] = m->columns;
        p[1] = (uint8_t)(m->rows - 1);
        p[2] = m->char_height;
        st16le(p + 3, m->page_bytes == 0xFFFF ? 0 : m->page_bytes);
        memcpy(p + 5, g->seq, 4);
        p[9] = g->misc;
        memcpy(p + 10, g->crtc, 25);
        memcpy(p + 35, g->attr, 20);
        memcpy(p + 55, g->gfx, 9);
        (void)video_rom_add(rom, at, p, sizeof p, i ? 1 : 16);
    }
    memset(save, 0, sizeof save); /* save pointer table: only the parameters */
    st32le(save, (uint32_t)(FW_VGA_ROM >> 4) << 16 | fw->params_off);
    fw->save_off = video_rom_add(rom, at, save, sizeof save, 4);
}

static void video_rom_build(struct fw *fw, uint8_t *rom)
{
    static const uint8_t int10[] = { 0x68, 0x10, 0x00, 0xEA, 0x00, 0xD0, 0x00, 0xF0 }; /* push 10h; jmp far F000:D000 (bios.c) */
    static const uint8_t window[] = { 0xB8, 0x05, 0x4F, 0xCD, 0x10, 0xCB };            /* mov ax, 4F05h; int 10h; retf */
    static const uint8_t functionality[16] = { 0xFF, 0xE0, 0x0F, 0, 0, 0, 0, 0x07, 0x02, 0x08, 0xE7, 0x0C, 0, 0, 0, 0 };
    static const char oem[] = "emu VGA";
    uint8_t font[256 * 16], modes[2 * (EMU_ARRAY_LEN(vbe_modes) + 1)];
    unsigned at = 0x60, n = 0;
    size_t i;
    memset(rom, 0, FW_VGA_ROM_BYTES);
    rom[0] = 0x55, rom[1] = 0xAA, rom[2] = FW_VGA_ROM_BYTES / 512;
    rom[3] = 0xCB; /* init: nothing left to do */
    st16le(rom + 0x18, 0x40);
    memcpy(rom + 0x1E, "IBM VGA compatible", 18);
    memcpy(rom + 0x40, "PCIR", 4);
    st16le(rom + 0x44, 0x1234);
    st16le(rom + 0x46, 0x1111);
    st16le(rom + 0x4A, 0x18);
    rom[0x4F] = 0x03; /* class 03 00 00 */
    st16le(rom + 0x50, FW_VGA_ROM_BYTES / 512);
    rom[0x55] = 0x80; /* last image */
    fw->int10_off = video_rom_add(rom, &at, int10, sizeof int10, 16);
    fw->vbe_pm_off = video_rom_add(rom, &at, window, sizeof window, 16);
    fw->static_off = video_rom_add(rom, &at, functionality, sizeof functionality, 16);
    fw->vbe_oem_off = video_rom_add(rom, &at, oem, sizeof oem, 1);
    for (i = 0; i < EMU_ARRAY_LEN(vbe_modes); i++)
        if (vbe_find(fw, vbe_modes[i].number))
            st16le(modes + 2 * n++, vbe_modes[i].number);
    st16le(modes + 2 * n++, 0xFFFF);
    fw->vbe_modes_off = video_rom_add(rom, &at, modes, 2 * n, 2);
    video_rom_parameters(fw, rom, &at);
    font_render(font, 8);
    fw->font8_off = video_rom_add(rom, &at, font, 256 * 8, 16);
    font_render(font, 14);
    fw->font14_off = video_rom_add(rom, &at, font, 256 * 14, 16);
    font_render(font, 16);
    fw->font16_off = video_rom_add(rom, &at, font, 256 * 16, 16);
    rom[FW_VGA_ROM_BYTES - 1] = fw_checksum(rom, FW_VGA_ROM_BYTES - 1);
}

EMU_PRIV void fw_video_init(struct fw *fw)
{
    struct emu *e = fw->emu;
    struct video_rom *image = emu_alloc(e, sizeof *image);
    unsigned i;
    fw->has_vga = false;
    fw->lfb_gpa = 0;
    fw->vram_bytes = 0;
    for (i = 0; i < 256 && e->pci; i++) {
        struct pci_device *d = e->pci->devices[i];
        if (d && d->config[0x0B] == 0x03 && ld16le(d->config) == 0x1234) {
            fw->lfb_gpa = ld32le(d->config + 0x10) & ~15u;
            fw->has_vga = (video_dispi(fw, DISPI_ID) & 0xFFF0) == 0xB0C0;
            break;
        }
    }
    if (fw->has_vga)
        fw->vram_bytes = video_dispi(fw, DISPI_VIDEO_MEMORY_64K) << 16;
    if (!image)
        return;
    video_rom_build(fw, image->bytes);
    mem_write(e, FW_VGA_ROM, image->bytes, sizeof image->bytes);
    emu_free(e, image);
    fw_set_vector(fw, 0x10, FW_VGA_ROM >> 4, fw->int10_off);
    fw_set_vector(fw, 0x6D, FW_VGA_ROM >> 4, fw->int10_off);
    fw_st32(fw, BDA_VIDEO_SAVE_TABLE, (uint32_t)(FW_VGA_ROM >> 4) << 16 | fw->save_off);
    fw_st8(fw, BDA_VIDEO_MODESET, 0x11 & 0xFE);
    video_set_mode(fw, 3, true);
}
