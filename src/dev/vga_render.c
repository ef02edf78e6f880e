/* dev/vga_render.c - what the VGA card's registers and memory look like on the screen.
 *
 * Models     IBM PS/2 Hardware Interface Technical Reference, Video Subsystem: text generator, planar, CGA-compatible and 256-colour
 *            shift modes, attribute controller, line compare; VBE dispi linear modes.
 * Contract   Front ends call emu->display; nothing here changes what a guest sees.
 * Theory     Each call draws the whole picture, scan line by scan line as the CRTC walks (vga_draw_vga): memory address and row scan
 *            count advance per line, the split screen restarts them. Whether drawing is worth while is asked first with vga_change_count(),
 *            which looks at a flag set by register writes, at the dirty pages of video memory, and at the blink phase.
 *            Pixels come out as the monitor's dots: 720x400 text, 640x400 for mode 13h.
 * Invariants 1. Every read of vram is inside vram_bytes; VGA modes wrap at 64 Ki units.
 *            2. changes never falls.
 * Missing    Vertical counters divided by two (CR17 bit 2), overscan, character width other than 8 and 9 dots.
 */
#include "../machine.h"
#include "dev.h"
#include "vga.h"

#define VGA_UNIT_MASK 0xFFFFu /* VGA modes see 64 Ki units: 256 KiB */
#define VGA_CURSOR_BLINK_FRAMES 8
#define VGA_FRAME_NS (NS_PER_SEC / 70)
#define VGA_LINE_MAX 4640 /* 256 characters of 9 dots, doubled, and room for panning */

enum { VGA_TEXT_CELLS = 200 * 100 };

/* ---- small facts ---- */

static bool vga_dispi_on(const struct vga *v) { return (v->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_ENABLED) != 0; }
static bool vga_is_text(const struct vga *v) { return !vga_dispi_on(v) && !(v->gc[6] & 1); }
static bool vga_is_blank(const struct vga *v) { return !(v->attr_index & 0x20) || (!vga_dispi_on(v) && (v->seq[1] & 0x20)); }
static unsigned vga_char_height(const struct vga *v) { return (v->crtc[9] & 0x1Fu) + 1; }
static uint32_t vga_start_unit(const struct vga *v) { return (uint32_t)v->crtc[0x0C] << 8 | v->crtc[0x0D]; }
static uint32_t vga_cursor_unit(const struct vga *v) { return (uint32_t)v->crtc[0x0E] << 8 | v->crtc[0x0F]; }
static unsigned vga_columns(const struct vga *v) { return v->crtc[1] + 1u; }

static unsigned vga_line_compare(const struct vga *v)
{
    return v->crtc[0x18] | (v->crtc[7] >> 4 & 1u) << 8 | (v->crtc[9] >> 6 & 1u) << 9;
}

static unsigned vga_text_rows(const struct vga *v)
{
    unsigned lines = vga_char_height(v) << (v->crtc[9] >> 7);
    return vga_display_lines(v) / lines;
}

static bool vga_cursor_enabled(const struct vga *v)
{
    return !(v->crtc[0x0A] & 0x20) && (v->crtc[0x0A] & 0x1F) <= (v->crtc[0x0B] & 0x1F);
}

/* Bit 0: cursor phase, bit 1: character phase (half as fast); 1 = shown. */
static uint8_t vga_blink(const struct vga *v)
{
    int64_t frames = emu_now_ns(v->pci.dev.emu) / VGA_FRAME_NS;
    return (uint8_t)((frames / VGA_CURSOR_BLINK_FRAMES % 2 ? 0 : 1) | (frames / (2 * VGA_CURSOR_BLINK_FRAMES) % 2 ? 0 : 2));
}

static uint32_t vga_unit(const struct vga *v, uint32_t unit) { return ld32le(v->vram->bytes + (unit & VGA_UNIT_MASK) * 4); }

/* ---- colours ---- */

static uint32_t vga_dac_color(const struct vga *v, unsigned index)
{
    const uint8_t *p = v->dac + (index & v->pel_mask) * 3;
    unsigned r = p[0], g = p[1], b = p[2];
    if (!(v->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_8BIT_DAC)) {
        r = (r & 63) << 2 | (r & 63) >> 4;
        g = (g & 63) << 2 | (g & 63) >> 4;
        b = (b & 63) << 2 | (b & 63) >> 4;
    }
    return (uint32_t)r << 16 | g << 8 | b;
}

static void vga_palette16(const struct vga *v, uint32_t *out)
{
    unsigned i;
    for (i = 0; i < 16; i++) {
        unsigned a = v->attr[i] & 0x3Fu;
        if (v->attr[0x10] & 0x80)
            a = (v->attr[0x14] & 15u) << 4 | (a & 15);
        else
            a |= (v->attr[0x14] & 12u) << 4;
        out[i] = vga_dac_color(v, a);
    }
}

static void vga_palette256(const struct vga *v, uint32_t *out)
{
    unsigned i;
    for (i = 0; i < 256; i++)
        out[i] = vga_dac_color(v, i);
}

/* ---- one scan line of each kind ---- */

struct vga_line {
    const struct vga *v;
    uint32_t palette[256];
    uint32_t dots[VGA_LINE_MAX];
    unsigned units, width;    /* units to draw, including one for panning; dots of the picture */
    unsigned char_dots;       /* text: 8 or 9 */
    bool doubled;             /* dot clock halved */
    uint32_t font[2];         /* text: first unit of both character sets, by attribute bit 3 */
    uint8_t blink;
};

/* Plane 2 offset in units of character map n (sequencer register 3). */
static uint32_t vga_font_unit(unsigned n) { return (n & 3) * 0x4000u + (n & 4 ? 0x2000u : 0); }

static void vga_line_text(struct vga_line *l, uint32_t ma, unsigned scan)
{
    const struct vga *v = l->v;
    uint32_t *out = l->dots;
    uint32_t cursor = vga_cursor_unit(v);
    unsigned i, k, underline = v->crtc[0x14] & 0x1Fu;
    bool cursor_line = vga_cursor_enabled(v) && (l->blink & 1) && scan >= (v->crtc[0x0A] & 0x1Fu) && scan <= (v->crtc[0x0B] & 0x1Fu);
    for (i = 0; i < l->units; i++) {
        uint32_t cell = vga_unit(v, ma + i);
        unsigned ch = cell & 0xFF, attr = cell >> 8 & 0xFF, fg = attr & 15, bg = attr >> 4, bits, ninth;
        bits = vga_unit(v, l->font[attr >> 3 & 1] + ch * 32 + scan) >> 16 & 0xFF;
        ninth = (v->attr[0x10] & 4) && ch >= 0xC0 && ch <= 0xDF ? bits & 1 : 0; /* box drawing touches its neighbour */
        if ((v->attr[0x10] & 2) && (attr & 7) == 1 && scan == underline)         /* monochrome emulation */
            bits = 0xFF, ninth = 1;
        if (v->attr[0x10] & 8) {
            if ((attr & 0x80) && !(l->blink & 2))
                bits = ninth = 0;
            bg &= 7;
        }
        if (cursor_line && ((ma + i) & VGA_UNIT_MASK) == cursor)
            bits = 0xFF, ninth = 1;
        bits = bits << 1 | ninth;
        for (k = 0; k < l->char_dots; k++)
            *out++ = l->palette[bits >> (8 - k) & 1 ? fg : bg];
    }
}

static void vga_line_planar(struct vga_line *l, const uint8_t *units, uint32_t unit, uint32_t mask)
{
    unsigned i, k, enable = l->v->attr[0x12] & 15u;
    uint32_t *out = l->dots;
    for (i = 0; i < l->units; i++) {
        uint32_t u = ld32le(units + ((unit + i) & mask) * 4);
        for (k = 8; k-- > 0;)
            *out++ = l->palette[((u >> k & 1) | (u >> (k + 7) & 2) | (u >> (k + 14) & 4) | (u >> (k + 21) & 8)) & enable];
    }
}

static void vga_line_cga(struct vga_line *l, uint32_t ma)
{
    unsigned i, k, plane, enable = l->v->attr[0x12] & 15u;
    uint32_t *out = l->dots;
    for (i = 0; i < l->units; i++) {
        uint32_t u = vga_unit(l->v, ma + i);
        for (plane = 0; plane < 2; plane++) {
            unsigned low = u >> (8 * plane) & 0xFF, high = u >> (16 + 8 * plane) & 0xFF;
            for (k = 8; k > 0; k -= 2)
                *out++ = l->palette[((low >> (k - 2) & 3) | (high >> (k - 2) & 3) << 2) & enable];
        }
    }
}

static void vga_line_256(struct vga_line *l, uint32_t ma)
{
    unsigned i, k;
    uint32_t *out = l->dots;
    for (i = 0; i < l->units; i++) {
        uint32_t u = vga_unit(l->v, ma + i);
        for (k = 0; k < 4; k++, u >>= 8) {
            uint32_t c = l->palette[u & 0xFF];
            *out++ = c;
            *out++ = c;
        }
    }
}

/* Moves the drawn dots to the picture: panning first, then each dot twice with the clock halved. */
static void vga_line_out(const struct vga_line *l, uint32_t *to, unsigned pan)
{
    unsigned i;
    if (!l->doubled) {
        memcpy(to, l->dots + pan, l->width * sizeof *to);
        return;
    }
    for (i = 0; i < l->width / 2; i++)
        to[2 * i] = to[2 * i + 1] = l->dots[pan + i];
}

/* ---- VGA modes ---- */

/* Bits 13 and 14 of the memory address may come from the row scan counter (CGA's and Hercules' interleaved lines). In units: one
 * lower in word mode, as vga.h packs addresses. */
static uint32_t vga_row_address(const struct vga *v, uint32_t ma, unsigned scan)
{
    unsigned bit = v->crtc[0x17] & 0x40 ? 13 : 12;
    if (!(v->crtc[0x17] & 1))
        ma = (ma & ~(UINT32_C(1) << bit)) | (uint32_t)(scan & 1) << bit;
    if (!(v->crtc[0x17] & 2))
        ma = (ma & ~(UINT32_C(2) << bit)) | (uint32_t)(scan >> 1 & 1) << (bit + 1);
    return ma;
}

static void vga_draw_line(struct vga_line *l, uint32_t ma, unsigned scan)
{
    const struct vga *v = l->v;
    if (vga_is_text(v))
        vga_line_text(l, ma, scan);
    else if (v->gc[5] & 0x40)
        vga_line_256(l, vga_row_address(v, ma, scan));
    else if (v->gc[5] & 0x20)
        vga_line_cga(l, vga_row_address(v, ma, scan));
    else
        vga_line_planar(l, v->vram->bytes, vga_row_address(v, ma, scan), VGA_UNIT_MASK);
}

static unsigned vga_pan_dots(const struct vga *v, const struct vga_line *l)
{
    unsigned pan = v->attr[0x13] & 15u;
    if (vga_is_text(v) && l->char_dots == 9)
        return pan >= 8 ? 0 : pan + 1;
    if (!vga_is_text(v) && (v->gc[5] & 0x40))
        return pan & 6; /* half dots do not count: pixels are two wide */
    return pan & 7;
}

static void vga_line_setup(struct vga_line *l, const struct vga *v)
{
    bool wide = !vga_is_text(v) && (v->gc[5] & 0x40);
    l->v = v;
    l->units = vga_columns(v) + 1;
    l->char_dots = vga_is_text(v) && !(v->seq[1] & 1) ? 9 : 8;
    l->doubled = (v->seq[1] & 8) != 0;
    l->width = vga_columns(v) * l->char_dots * (l->doubled ? 2 : 1);
    l->blink = vga_blink(v);
    /* sequencer register 3: bits 5, 3-2 choose the set for attribute bit 3 = 1, bits 4, 1-0 the other */
    l->font[1] = vga_font_unit((v->seq[3] >> 2 & 3u) | (v->seq[3] >> 3 & 4u));
    l->font[0] = vga_font_unit((v->seq[3] & 3u) | (v->seq[3] >> 2 & 4u));
    if (wide)
        vga_palette256(v, l->palette);
    else
        vga_palette16(v, l->palette);
}

static void vga_draw_vga(struct vga *v, struct vga_line *l, struct screen *out)
{
    uint32_t ma = vga_start_unit(v) + (v->crtc[8] >> 5 & 3u);
    unsigned scan = v->crtc[8] & 0x1Fu, last = vga_char_height(v) - 1, compare = vga_line_compare(v), pan = vga_pan_dots(v, l), repeat = 0;
    int y;
    for (y = 0; y < out->height; y++) {
        uint32_t *to = out->pixels + (size_t)y * (size_t)out->stride_pixels;
        if (y > 0 && repeat && (unsigned)y - 1 != compare) {
            memcpy(to, to - out->stride_pixels, (size_t)out->width * sizeof *to); /* second line of a doubled one */
        } else {
            vga_draw_line(l, ma, scan);
            vga_line_out(l, to, pan);
        }
        if ((unsigned)y == compare) {
            ma = 0;
            scan = 0;
            repeat = 0;
            if (v->attr[0x10] & 0x20)
                pan = 0;
        } else if ((v->crtc[9] & 0x80) && !repeat) {
            repeat = 1;
        } else {
            repeat = 0;
            if (scan == last) {
                scan = 0;
                ma += (uint32_t)v->crtc[0x13] * 2;
            } else {
                scan = (scan + 1) & 0x1F;
            }
        }
    }
}

/* ---- VBE modes ---- */

static uint32_t vga_rgb565(unsigned p)
{
    unsigned r = p >> 11 & 31, g = p >> 5 & 63, b = p & 31;
    return (uint32_t)(r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}

static uint32_t vga_rgb555(unsigned p)
{
    unsigned r = p >> 10 & 31, g = p >> 5 & 31, b = p & 31;
    return (uint32_t)(r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
}

static void vga_draw_packed(const struct vga *v, const uint32_t *palette, const uint8_t *p, uint32_t *to, unsigned width)
{
    unsigned x, bpp = v->dispi[VGA_DISPI_BPP];
    switch (bpp) {
    case 15:
    case 16:
        for (x = 0; x < width; x++, p += 2) {
            unsigned pixel = v->big_endian ? ld16be(p) : ld16le(p);
            to[x] = bpp == 15 ? vga_rgb555(pixel) : vga_rgb565(pixel);
        }
        break;
    case 24:
        for (x = 0; x < width; x++, p += 3)
            to[x] = (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
        break;
    case 32:
        for (x = 0; x < width; x++, p += 4)
            to[x] = (v->big_endian ? ld32be(p) : ld32le(p)) & 0xFFFFFF;
        break;
    default:
        for (x = 0; x < width; x++)
            to[x] = palette[p[x]];
        break;
    }
}

static void vga_draw_dispi(struct vga *v, struct vga_line *l, struct screen *out)
{
    uint32_t line = vga_dispi_line_bytes(v), bytes = line / v->dispi[VGA_DISPI_VIRT_WIDTH];
    uint32_t start = v->dispi[VGA_DISPI_Y_OFFSET] * line, at;
    unsigned width = (unsigned)out->width, k;
    int y;
    if (v->dispi[VGA_DISPI_BPP] == 4) {
        vga_palette16(v, l->palette);
        start += v->dispi[VGA_DISPI_X_OFFSET] / 8u * 4;
    } else {
        vga_palette256(v, l->palette);
        start += v->dispi[VGA_DISPI_X_OFFSET] * bytes;
    }
    for (y = 0; y < out->height; y++) {
        uint32_t *to = out->pixels + (size_t)y * (size_t)out->stride_pixels;
        at = start + (uint32_t)y * line;
        if (v->dispi[VGA_DISPI_BPP] != 4) {
            if (at <= v->vram_bytes && (uint64_t)width * bytes <= v->vram_bytes - at)
                vga_draw_packed(v, l->palette, v->vram->bytes + at, to, width);
            else
                memset(to, 0, width * sizeof *to);
            continue;
        }
        for (k = 0; k < width; k += 8) { /* a unit at a time: the line buffer is made for VGA widths */
            l->units = 1;
            vga_line_planar(l, v->vram->bytes, at / 4 + k / 8, v->vram_bytes / 4 - 1);
            memcpy(to + k, l->dots, EMU_MIN(width - k, 8) * sizeof *to);
        }
    }
}

/* ---- display source ---- */

static bool vga_size_picture(struct vga *v, const struct vga_line *l, struct screen *out)
{
    size_t need;
    if (vga_dispi_on(v)) {
        out->width = v->dispi[VGA_DISPI_XRES];
        out->height = v->dispi[VGA_DISPI_YRES];
    } else {
        out->width = (int)l->width;
        out->height = (int)vga_display_lines(v);
    }
    out->stride_pixels = out->width;
    need = (size_t)out->width * (size_t)out->height;
    if (need > v->pixel_capacity) {
        uint32_t *p = emu_realloc(v->pci.dev.emu, v->pixels, need * sizeof *p);
        if (!p)
            return false;
        v->pixels = p;
        v->pixel_capacity = need;
    }
    out->pixels = v->pixels;
    return true;
}

EMU_PRIV void vga_render(void *opaque, struct screen *out)
{
    struct vga *v = opaque;
    struct vga_line line;
    vga_line_setup(&line, v);
    if (!vga_size_picture(v, &line, out)) {
        memset(out, 0, sizeof *out); /* no memory: no picture */
        return;
    }
    if (vga_is_blank(v))
        memset(out->pixels, 0, (size_t)out->width * (size_t)out->height * sizeof *out->pixels);
    else if (vga_dispi_on(v))
        vga_draw_dispi(v, &line, out);
    else
        vga_draw_vga(v, &line, out);
}

EMU_PRIV bool vga_render_text(void *opaque, struct screen_text *out)
{
    struct vga *v = opaque;
    uint32_t start = vga_start_unit(v), pitch = (uint32_t)v->crtc[0x13] * 2, cursor = (vga_cursor_unit(v) - start) & VGA_UNIT_MASK;
    int x, y;
    if (!vga_is_text(v))
        return false;
    memset(out, 0, sizeof *out);
    out->columns = (int)EMU_MIN(vga_columns(v), 200);
    out->rows = (int)EMU_MIN(vga_text_rows(v), 100);
    for (y = 0; y < out->rows; y++)
        for (x = 0; x < out->columns; x++)
            out->cells[y * out->columns + x] =
                vga_is_blank(v) ? ' ' : (uint16_t)(vga_unit(v, start + (uint32_t)y * pitch + (uint32_t)x) & 0xFFFF);
    if (pitch) {
        out->cursor_x = (int)(cursor % pitch);
        out->cursor_y = (int)(cursor / pitch);
        out->cursor_on = vga_cursor_enabled(v) && out->cursor_x < out->columns && out->cursor_y < out->rows;
    }
    return true;
}

/* Did anybody write to a page that is shown? Pages that nobody watches yet count as written. */
static bool vga_pages_written(struct vga *v)
{
    uint64_t from = 0, size = 4 * (uint64_t)(VGA_UNIT_MASK + 1), page;
    bool written = false;
    if (vga_dispi_on(v)) {
        from = (uint64_t)v->dispi[VGA_DISPI_Y_OFFSET] * vga_dispi_line_bytes(v);
        size = ((uint64_t)v->dispi[VGA_DISPI_YRES] + 1) * vga_dispi_line_bytes(v);
    }
    if (from >= v->vram_bytes)
        return false;
    size = EMU_MIN(size, v->vram_bytes - from);
    size += from & 4095;
    from -= from & 4095;
    for (page = from >> 12; page < (from + size + 4095) >> 12 && !written; page++)
        written = !(v->vram->page_flags[page] & PAGE_TRACKED);
    if (written)
        mem_track_dirty(v->pci.dev.emu, v->vram, from, size);
    return written;
}

EMU_PRIV uint64_t vga_change_count(void *opaque)
{
    struct vga *v = opaque;
    uint8_t blink = 0;
    if (vga_is_text(v) && !vga_is_blank(v)) {
        blink = vga_blink(v);
        if (!vga_cursor_enabled(v))
            blink &= (uint8_t)~1;
        if (!(v->attr[0x10] & 8))
            blink &= (uint8_t)~2;
    }
    if (vga_pages_written(v) || v->changed || blink != v->blink_phase)
        v->changes++;
    v->changed = false;
    v->blink_phase = blink;
    return v->changes;
}
#undef VGA_UNIT_MASK
#undef VGA_CURSOR_BLINK_FRAMES
#undef VGA_FRAME_NS
#undef VGA_LINE_MAX
