/* dev/vga.c - VGA card with the Bochs VBE extensions, QEMU's "VGA" (PCI 1234:1111): registers and memory.
 *
 * Models     IBM PS/2 Hardware Interface Technical Reference, Video Subsystem (1992): sequencer, CRTC, graphics and attribute
 *            controllers, DAC; the VBE dispi interface (ports 1CEh/1CFh, ids B0C0h-B0C5h); QEMU docs/specs/standard-vga.rst for the
 *            PCI layout: BAR 0 framebuffer, BAR 2 registers (400h VGA ports, 500h dispi, 600h byte order).
 * Contract   board.c creates one; fw/ programs modes through the same ports as a guest. vga_render.c makes pictures from this state.
 * Theory     vga.h says how memory lies. The window at A0000h-BFFFFh is an I/O region whose accesses pass the graphics controller;
 *            whenever that would change nothing (chain-4, all planes, write mode 0, no mask, no function) vga_update_window() lays
 *            plain RAM over it. Raster position is a function of virtual time (vga_read_status1).
 * Invariants 1. Every access to vram is checked against vram_bytes.
 *            2. window_ram is added exactly while vga_window_is_plain() holds, at bank_bytes.
 *            3. Every write to vram here is followed by vga_touched().
 * Missing    Vertical retrace interrupt, CRTC "count by" and refresh bits, overscan colour, light pen.
 */
#include "../machine.h"
#include "dev.h"
#include "vga.h"

#define VGA_WINDOW UINT64_C(0xA0000)
#define VGA_WINDOW_BYTES 0x20000u
#define VGA_BANK_BYTES 0x10000u
#define VGA_MAX_XRES 16000
#define VGA_MAX_YRES 12000
#define VGA_DEFAULT_LINE_NS 31778 /* 31.469 kHz */

enum { /* sequencer and graphics controller bits used here */
    VGA_SEQ_8DOT = 0x01,
    VGA_SEQ_HALF_CLOCK = 0x08,
    VGA_SEQ_SEQUENTIAL = 0x04,
    VGA_SEQ_CHAIN4 = 0x08,
    VGA_GC_READ_COMPARE = 0x08,
    VGA_GC_ODD_EVEN = 0x10
};

/* Each set bit of a plane mask as a byte of ones. */
static uint32_t vga_expand(unsigned planes)
{
    return ((planes & 1) ? 0x000000FFu : 0) | ((planes & 2) ? 0x0000FF00u : 0) | ((planes & 4) ? 0x00FF0000u : 0) |
           ((planes & 8) ? 0xFF000000u : 0);
}

static void vga_touched(struct vga *v, uint32_t offset, uint32_t size)
{
    if (v->vram->page_flags[offset >> 12] & (PAGE_TRACKED | PAGE_HAS_CODE) || size > 4)
        mem_written(v->pci.dev.emu, v->vram, offset, size);
}

/* ---- the window at A0000h ---- */

/* Offset in the window -> offset in the selected map; false: not decoded. */
static bool vga_map_address(const struct vga *v, uint32_t *addr)
{
    switch ((v->gc[6] >> 2) & 3) {
    case 0: *addr += v->bank_bytes; return true;
    case 1:
        if (*addr >= VGA_BANK_BYTES)
            return false;
        *addr += v->bank_bytes;
        return true;
    case 2:
        *addr -= 0x10000;
        return *addr < 0x8000;
    default:
        *addr -= 0x18000;
        return *addr < 0x8000;
    }
}

static bool vga_window_is_plain(const struct vga *v)
{
    return (v->seq[4] & VGA_SEQ_CHAIN4) && v->seq[2] == 0x0F && !(v->gc[5] & 0x0B) && !v->gc[1] && !v->gc[3] && v->gc[8] == 0xFF &&
           !(v->gc[6] & 0x08) && v->bank_bytes + VGA_WINDOW_BYTES <= v->vram_bytes;
}

static void vga_update_window(struct vga *v)
{
    struct emu *e = v->pci.dev.emu;
    bool plain = vga_window_is_plain(v);
    uint64_t size = v->gc[6] & 0x04 ? VGA_BANK_BYTES : VGA_WINDOW_BYTES;
    if (v->window_ram.added && plain && v->window_offset == v->bank_bytes && v->window_ram.size == size)
        return;
    if (v->window_ram.added)
        region_remove(e, &e->memory, &v->window_ram);
    if (plain) {
        region_init_ram(&v->window_ram, "vga window", v->vram, v->bank_bytes, size);
        v->window_offset = v->bank_bytes;
        region_add(e, &e->memory, &v->window_ram, VGA_WINDOW, MAP_PRIO_VGA); /* added after window_io: on top of it */
    }
}

static uint8_t vga_memory_read(struct vga *v, uint32_t addr)
{
    uint32_t unit;
    unsigned plane = v->gc[4] & 3;
    if (!vga_map_address(v, &addr))
        return 0xFF;
    if (v->seq[4] & VGA_SEQ_CHAIN4) {
        unit = addr >> 2;
        plane = addr & 3;
    } else if (v->gc[5] & VGA_GC_ODD_EVEN) {
        unit = addr >> 1;
        plane = (plane & 2) | (addr & 1);
    } else {
        unit = addr;
    }
    if (unit >= v->vram_bytes / 4)
        return 0xFF;
    v->latch = ld32le(v->vram->bytes + unit * 4);
    if (v->gc[5] & VGA_GC_READ_COMPARE) {
        uint32_t differ = (v->latch ^ vga_expand(v->gc[2])) & vga_expand(v->gc[7]);
        return (uint8_t) ~(differ | differ >> 8 | differ >> 16 | differ >> 24);
    }
    return (uint8_t)(v->latch >> (8 * plane));
}

/* What the graphics controller makes of a byte (IBM, "Graphics Mode Register" and figure of the write path). */
static uint32_t vga_write_logic(const struct vga *v, uint8_t value)
{
    unsigned rotate = v->gc[3] & 7;
    uint8_t mask = v->gc[8], rotated = (uint8_t)(value >> rotate | value << (8 - rotate));
    uint32_t data, mask32;
    switch (v->gc[5] & 3) {
    case 0: {
        uint32_t enable = vga_expand(v->gc[1]);
        data = (rotated * 0x01010101u & ~enable) | (vga_expand(v->gc[0]) & enable);
        break;
    }
    case 1: return v->latch;
    case 2: data = vga_expand(value); break;
    default:
        data = vga_expand(v->gc[0]);
        mask &= rotated;
        break;
    }
    switch ((v->gc[3] >> 3) & 3) {
    case 1: data &= v->latch; break;
    case 2: data |= v->latch; break;
    case 3: data ^= v->latch; break;
    }
    mask32 = mask * 0x01010101u;
    return (data & mask32) | (v->latch & ~mask32);
}

static void vga_memory_write(struct vga *v, uint32_t addr, uint8_t value)
{
    uint32_t unit, planes, old;
    unsigned mask = v->seq[2] & 15;
    uint8_t *p;
    if (!vga_map_address(v, &addr))
        return;
    if (v->seq[4] & VGA_SEQ_CHAIN4) {
        unit = addr >> 2;
        mask &= 1u << (addr & 3);
    } else if (!(v->seq[4] & VGA_SEQ_SEQUENTIAL)) {
        unit = addr >> 1;
        mask &= addr & 1 ? 0x0A : 0x05;
    } else {
        unit = addr;
    }
    if (!mask || unit >= v->vram_bytes / 4)
        return;
    p = v->vram->bytes + unit * 4;
    planes = vga_expand(mask);
    old = ld32le(p);
    st32le(p, (old & ~planes) | (vga_write_logic(v, value) & planes));
    vga_touched(v, unit * 4, 4);
}

static uint64_t vga_window_read(void *opaque, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    unsigned i;
    for (i = 0; i < size; i++)
        value |= (uint64_t)vga_memory_read(opaque, (uint32_t)offset + i) << (8 * i);
    return value;
}

static void vga_window_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned i;
    for (i = 0; i < size; i++)
        vga_memory_write(opaque, (uint32_t)offset + i, (uint8_t)(value >> (8 * i)));
}

/* ---- raster timing ---- */

static unsigned vga_crtc_overflow(const struct vga *v, uint8_t low, unsigned bit8, unsigned bit9)
{
    return low | (v->crtc[7] >> bit8 & 1u) << 8 | (v->crtc[7] >> bit9 & 1u) << 9;
}

EMU_PRIV unsigned vga_display_lines(const struct vga *v) { return vga_crtc_overflow(v, v->crtc[0x12], 1, 6) + 1; }

EMU_PRIV void vga_update_timing(struct vga *v)
{
    int64_t clock = (v->misc >> 2 & 3) == 1 ? 28322000 : 25175000;
    int64_t dots = v->seq[1] & VGA_SEQ_8DOT ? 8 : 9;
    int64_t total = (v->crtc[0] + 5) * dots, visible = (v->crtc[1] + 1) * dots;
    v->timing_stale = false;
    if (v->seq[1] & VGA_SEQ_HALF_CLOCK)
        clock /= 2;
    v->line_ns = total * NS_PER_SEC / clock;
    v->visible_ns = visible * NS_PER_SEC / clock;
    v->lines = vga_crtc_overflow(v, v->crtc[6], 0, 5) + 2;
    v->visible_lines = vga_display_lines(v);
    v->retrace_start = vga_crtc_overflow(v, v->crtc[0x10], 2, 7);
    v->retrace_end = (v->retrace_start & ~15u) | (v->crtc[0x11] & 15);
    if (v->retrace_end <= v->retrace_start)
        v->retrace_end += 16;
    if (v->line_ns * v->lines < 5 * NS_PER_MS || v->line_ns * v->lines > 50 * NS_PER_MS || v->retrace_end > v->lines) {
        v->line_ns = VGA_DEFAULT_LINE_NS; /* no sane mode (yet): 640x400 at 70 Hz, so that waiting loops end */
        v->visible_ns = VGA_DEFAULT_LINE_NS * 8 / 10;
        v->lines = 449;
        v->visible_lines = 400;
        v->retrace_start = 412;
        v->retrace_end = 414;
    }
}

static uint8_t vga_read_status1(struct vga *v)
{
    int64_t in_frame, in_line;
    unsigned line;
    if (v->timing_stale)
        vga_update_timing(v);
    in_frame = emu_now_ns(v->pci.dev.emu) % (v->line_ns * v->lines);
    line = (unsigned)(in_frame / v->line_ns);
    in_line = in_frame % v->line_ns;
    v->attr_data = false;
    return (uint8_t)((line >= v->visible_lines || in_line >= v->visible_ns ? 0x01 : 0) |
                     (line >= v->retrace_start && line < v->retrace_end ? 0x08 : 0));
}

/* ---- dispi ---- */

static unsigned vga_dispi_bytes(const struct vga *v) /* of a pixel; 0: four bits */
{
    switch (v->dispi[VGA_DISPI_BPP]) {
    case 4: return 0;
    case 15:
    case 16: return 2;
    case 24: return 3;
    case 32: return 4;
    default: return 1;
    }
}

EMU_PRIV uint32_t vga_dispi_line_bytes(const struct vga *v)
{
    unsigned bytes = vga_dispi_bytes(v);
    return bytes ? (uint32_t)v->dispi[VGA_DISPI_VIRT_WIDTH] * bytes : v->dispi[VGA_DISPI_VIRT_WIDTH] / 2u;
}

/* Keeps every combination of registers inside vram (invariant 1). */
static void vga_dispi_fix(struct vga *v)
{
    uint16_t *r = v->dispi;
    uint32_t line, lines, bytes;
    if (r[VGA_DISPI_BPP] != 4 && r[VGA_DISPI_BPP] != 15 && r[VGA_DISPI_BPP] != 16 && r[VGA_DISPI_BPP] != 24 && r[VGA_DISPI_BPP] != 32)
        r[VGA_DISPI_BPP] = 8;
    r[VGA_DISPI_XRES] = (uint16_t)EMU_MAX(EMU_MIN(r[VGA_DISPI_XRES] & ~7, VGA_MAX_XRES), 8);
    r[VGA_DISPI_YRES] = (uint16_t)EMU_MAX(EMU_MIN(r[VGA_DISPI_YRES], VGA_MAX_YRES), 1);
    bytes = EMU_MAX(vga_dispi_bytes(v), 1);
    r[VGA_DISPI_VIRT_WIDTH] = (uint16_t)EMU_MAX(r[VGA_DISPI_VIRT_WIDTH] & ~7, r[VGA_DISPI_XRES]);
    if ((uint32_t)r[VGA_DISPI_VIRT_WIDTH] * bytes > v->vram_bytes)
        r[VGA_DISPI_VIRT_WIDTH] = r[VGA_DISPI_XRES];
    line = vga_dispi_line_bytes(v);
    lines = v->vram_bytes / line;
    r[VGA_DISPI_YRES] = (uint16_t)EMU_MIN(r[VGA_DISPI_YRES], lines);
    r[VGA_DISPI_VIRT_HEIGHT] = (uint16_t)EMU_MIN(lines, 0xFFFF);
    if (r[VGA_DISPI_X_OFFSET] > r[VGA_DISPI_VIRT_WIDTH] - r[VGA_DISPI_XRES])
        r[VGA_DISPI_X_OFFSET] = (uint16_t)(r[VGA_DISPI_VIRT_WIDTH] - r[VGA_DISPI_XRES]);
    if (r[VGA_DISPI_Y_OFFSET] > lines - r[VGA_DISPI_YRES])
        r[VGA_DISPI_Y_OFFSET] = (uint16_t)(lines - r[VGA_DISPI_YRES]);
}

/* Enabling also sets the VGA registers so that the bank window at A0000h works in the new mode. */
static void vga_dispi_enable_window(struct vga *v)
{
    v->gc[6] = (uint8_t)((v->gc[6] & ~0x0C) | 0x05); /* graphics, 64 KiB at A0000h */
    v->gc[5] &= (uint8_t)~0x0B;                      /* write mode 0, read mode 0 and nothing in the way */
    v->gc[1] = v->gc[3] = 0;
    v->gc[8] = 0xFF;
    v->crtc[0x17] |= 3;
    v->seq[2] |= 0x0F;
    v->seq[1] &= (uint8_t)~VGA_SEQ_HALF_CLOCK;
    if (v->dispi[VGA_DISPI_BPP] == 4) {
        v->gc[5] &= (uint8_t)~0x60;
        v->seq[4] = (uint8_t)((v->seq[4] & ~VGA_SEQ_CHAIN4) | VGA_SEQ_SEQUENTIAL);
    } else {
        v->gc[5] = (uint8_t)((v->gc[5] & ~0x60) | 0x40);
        v->seq[4] |= VGA_SEQ_CHAIN4 | VGA_SEQ_SEQUENTIAL;
    }
}

static void vga_dispi_write_enable(struct vga *v, uint16_t value)
{
    uint16_t old = v->dispi[VGA_DISPI_ENABLE];
    v->dispi[VGA_DISPI_ENABLE] = value & (VGA_DISPI_ENABLED | VGA_DISPI_GETCAPS | VGA_DISPI_8BIT_DAC | VGA_DISPI_LFB | VGA_DISPI_NOCLEAR);
    if ((value & VGA_DISPI_ENABLED) && !(old & VGA_DISPI_ENABLED)) {
        v->dispi[VGA_DISPI_VIRT_WIDTH] = v->dispi[VGA_DISPI_XRES];
        v->dispi[VGA_DISPI_X_OFFSET] = v->dispi[VGA_DISPI_Y_OFFSET] = 0;
        vga_dispi_fix(v);
        if (!(value & VGA_DISPI_NOCLEAR)) {
            uint32_t size = vga_dispi_line_bytes(v) * v->dispi[VGA_DISPI_YRES];
            memset(v->vram->bytes, 0, size);
            vga_touched(v, 0, size);
        }
        vga_dispi_enable_window(v);
    } else if (!(value & VGA_DISPI_ENABLED)) {
        v->bank_bytes = 0;
        v->dispi[VGA_DISPI_BANK] = 0;
    }
    vga_update_window(v);
}

static uint16_t vga_dispi_read(const struct vga *v, unsigned index)
{
    if (index >= VGA_DISPI_COUNT)
        return 0;
    if (v->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_GETCAPS)
        switch (index) {
        case VGA_DISPI_XRES: return VGA_MAX_XRES;
        case VGA_DISPI_YRES: return VGA_MAX_YRES;
        case VGA_DISPI_BPP: return 32;
        }
    if (index == VGA_DISPI_MEMORY_64K)
        return (uint16_t)(v->vram_bytes / 0x10000);
    return v->dispi[index];
}

static void vga_dispi_write(struct vga *v, unsigned index, uint16_t value)
{
    v->changed = true;
    switch (index) {
    case VGA_DISPI_ID:
        if (value >= 0xB0C0 && value <= 0xB0C5)
            v->dispi[VGA_DISPI_ID] = value;
        break;
    case VGA_DISPI_ENABLE: vga_dispi_write_enable(v, value); break;
    case VGA_DISPI_BANK:
        if ((uint32_t)value < v->vram_bytes / VGA_BANK_BYTES) {
            v->dispi[VGA_DISPI_BANK] = value;
            v->bank_bytes = (uint32_t)value * VGA_BANK_BYTES;
            vga_update_window(v);
        }
        break;
    case VGA_DISPI_XRES:
    case VGA_DISPI_YRES:
    case VGA_DISPI_BPP:
    case VGA_DISPI_VIRT_WIDTH:
    case VGA_DISPI_X_OFFSET:
    case VGA_DISPI_Y_OFFSET:
        v->dispi[index] = value;
        if (v->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_ENABLED)
            vga_dispi_fix(v);
        break;
    }
}

/* 1CEh index, 1CFh data; 1D0h is data again for those who want it aligned. */
static uint64_t vga_dispi_port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *v = opaque;
    (void)size;
    return offset == 0 ? v->dispi_index : vga_dispi_read(v, v->dispi_index);
}

static void vga_dispi_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *v = opaque;
    (void)size;
    if (offset == 0)
        v->dispi_index = (uint16_t)value;
    else
        vga_dispi_write(v, v->dispi_index, (uint16_t)value);
}

/* ---- VGA ports ---- */

static void vga_write_attribute(struct vga *v, uint8_t value)
{
    unsigned index = v->attr_index & 0x1F;
    if (!v->attr_data) {
        v->attr_index = value & 0x3F;
    } else if (index < 16) {
        v->attr[index] = value & 0x3F;
    } else if (index < sizeof v->attr) {
        static const uint8_t masks[5] = { 0xEF, 0xFF, 0x3F, 0x0F, 0x0F };
        v->attr[index] = value & masks[index - 16];
    }
    v->attr_data = !v->attr_data;
    v->changed = true;
}

static void vga_write_dac(struct vga *v, uint8_t value)
{
    if (!(v->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_8BIT_DAC))
        value &= 0x3F;
    v->dac[v->dac_write * 3 + v->dac_part] = value;
    if (++v->dac_part == 3) {
        v->dac_part = 0;
        v->dac_write++;
    }
    v->changed = true;
}

static uint8_t vga_read_dac(struct vga *v)
{
    uint8_t value = v->dac[v->dac_read * 3 + v->dac_part];
    if (++v->dac_part == 3) {
        v->dac_part = 0;
        v->dac_read++;
    }
    return value;
}

static void vga_write_crtc(struct vga *v, uint8_t value)
{
    unsigned index = v->crtc_index;
    if (index >= sizeof v->crtc)
        return;
    if (index <= 7 && (v->crtc[0x11] & 0x80)) { /* protected, but for line compare bit 8 */
        if (index == 7)
            v->crtc[7] = (uint8_t)((v->crtc[7] & ~0x10) | (value & 0x10));
    } else {
        v->crtc[index] = value;
    }
    v->changed = v->timing_stale = true;
}

static bool vga_port_is_mine(const struct vga *v, unsigned port) /* mono or colour addresses, as the miscellaneous register says */
{
    return port >= 0x3C0 && port < 0x3D0 ? true : (v->misc & 1) ? port >= 0x3D0 : port < 0x3C0;
}

static void vga_port_write(struct vga *v, unsigned port, uint8_t value)
{
    static const uint8_t seq_masks[5] = { 0x03, 0x3D, 0x0F, 0x3F, 0x0E };
    static const uint8_t gc_masks[9] = { 0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF };
    if (!vga_port_is_mine(v, port))
        return;
    switch (port) {
    case 0x3C0: vga_write_attribute(v, value); break;
    case 0x3C2:
        v->misc = value;
        v->changed = v->timing_stale = true;
        break;
    case 0x3C4: v->seq_index = value & 7; break;
    case 0x3C5:
        if (v->seq_index < 5) {
            v->seq[v->seq_index] = value & seq_masks[v->seq_index];
            v->changed = v->timing_stale = true;
            vga_update_window(v);
        }
        break;
    case 0x3C6:
        v->pel_mask = value;
        v->changed = true;
        break;
    case 0x3C7:
        v->dac_read = value;
        v->dac_part = 0;
        v->dac_state = 3;
        break;
    case 0x3C8:
        v->dac_write = value;
        v->dac_part = 0;
        v->dac_state = 0;
        break;
    case 0x3C9: vga_write_dac(v, value); break;
    case 0x3CE: v->gc_index = value & 15; break;
    case 0x3CF:
        if (v->gc_index < 9) {
            v->gc[v->gc_index] = value & gc_masks[v->gc_index];
            if (v->gc_index == 5 || v->gc_index == 6)
                v->changed = true;
            vga_update_window(v);
        }
        break;
    case 0x3B4:
    case 0x3D4: v->crtc_index = value & 0x1F; break;
    case 0x3B5:
    case 0x3D5: vga_write_crtc(v, value); break;
    case 0x3BA:
    case 0x3DA: v->feature = value & 0x10; break;
    }
}

static uint8_t vga_port_read(struct vga *v, unsigned port)
{
    if (!vga_port_is_mine(v, port))
        return 0xFF;
    switch (port) {
    case 0x3C0: return v->attr_index;
    case 0x3C1: return (v->attr_index & 0x1F) < sizeof v->attr ? v->attr[v->attr_index & 0x1F] : 0;
    case 0x3C2: return 0x10; /* a monitor is connected */
    case 0x3C3: return 0x01;
    case 0x3C4: return v->seq_index;
    case 0x3C5: return v->seq_index < 5 ? v->seq[v->seq_index] : 0;
    case 0x3C6: return v->pel_mask;
    case 0x3C7: return v->dac_state;
    case 0x3C8: return v->dac_write;
    case 0x3C9: return vga_read_dac(v);
    case 0x3CA: return v->feature;
    case 0x3CC: return v->misc;
    case 0x3CE: return v->gc_index;
    case 0x3CF: return v->gc_index < 9 ? v->gc[v->gc_index] : 0;
    case 0x3B4:
    case 0x3D4: return v->crtc_index;
    case 0x3B5:
    case 0x3D5: return v->crtc_index < sizeof v->crtc ? v->crtc[v->crtc_index] : 0;
    case 0x3BA:
    case 0x3DA: return vga_read_status1(v);
    }
    return 0xFF;
}

#define VGA_PORT_CALLBACKS(name, base)                                                                                 \
    static uint64_t vga_##name##_read(void *opaque, uint64_t offset, unsigned size)                                    \
    {                                                                                                                  \
        (void)size;                                                                                                    \
        return vga_port_read(opaque, (base) + (unsigned)offset);                                                       \
    }                                                                                                                  \
    static void vga_##name##_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)                       \
    {                                                                                                                  \
        (void)size;                                                                                                    \
        vga_port_write(opaque, (base) + (unsigned)offset, (uint8_t)value);                                             \
    }                                                                                                                  \
    static const struct region_ops vga_##name##_ops = { vga_##name##_read, vga_##name##_write, 1, 1, true }
VGA_PORT_CALLBACKS(mono_crtc, 0x3B4);
VGA_PORT_CALLBACKS(mono_status, 0x3BA);
VGA_PORT_CALLBACKS(ports, 0x3C0);
VGA_PORT_CALLBACKS(color_crtc, 0x3D4);
VGA_PORT_CALLBACKS(color_status, 0x3DA);
#undef VGA_PORT_CALLBACKS

/* ---- BAR 2 ---- */

enum { VGA_MMIO_PORTS = 0x400, VGA_MMIO_DISPI = 0x500, VGA_MMIO_SIZE = 0x600, VGA_MMIO_ORDER = 0x604, VGA_MMIO_BYTES = 0x1000 };
#define VGA_ORDER_LITTLE 0x1E1E1E1Eu
#define VGA_ORDER_BIG 0xBEBEBEBEu

static uint64_t vga_mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *v = opaque;
    uint64_t value = 0;
    unsigned i;
    if (offset >= VGA_MMIO_PORTS && offset + size <= VGA_MMIO_PORTS + 0x20) {
        for (i = 0; i < size; i++)
            value |= (uint64_t)vga_port_read(v, 0x3C0 + (unsigned)(offset - VGA_MMIO_PORTS) + i) << (8 * i);
        return value;
    }
    if (offset >= VGA_MMIO_DISPI && offset < VGA_MMIO_DISPI + 2 * VGA_DISPI_COUNT)
        return vga_dispi_read(v, (unsigned)(offset - VGA_MMIO_DISPI) >> 1) >> (8 * (offset & 1));
    if (offset == VGA_MMIO_SIZE)
        return 8;
    if (offset == VGA_MMIO_ORDER)
        return v->big_endian ? VGA_ORDER_BIG : VGA_ORDER_LITTLE;
    return 0;
}

static void vga_mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *v = opaque;
    unsigned i;
    if (offset >= VGA_MMIO_PORTS && offset + size <= VGA_MMIO_PORTS + 0x20) {
        for (i = 0; i < size; i++)
            vga_port_write(v, 0x3C0 + (unsigned)(offset - VGA_MMIO_PORTS) + i, (uint8_t)(value >> (8 * i)));
    } else if (offset >= VGA_MMIO_DISPI && offset < VGA_MMIO_DISPI + 2 * VGA_DISPI_COUNT) {
        vga_dispi_write(v, (unsigned)(offset - VGA_MMIO_DISPI) >> 1, (uint16_t)value);
    } else if (offset == VGA_MMIO_ORDER && (value == VGA_ORDER_LITTLE || value == VGA_ORDER_BIG)) {
        v->big_endian = value == VGA_ORDER_BIG;
        v->changed = true;
    }
}

/* ---- device ---- */

static const struct region_ops vga_window_ops = { vga_window_read, vga_window_write, 1, 4, true };
static const struct region_ops vga_dispi_ops = { vga_dispi_port_read, vga_dispi_port_write, 1, 2, true };
static const struct region_ops vga_mmio_ops = { vga_mmio_read, vga_mmio_write, 1, 4, true };

static void vga_reset(struct device *dev)
{
    struct vga *v = (struct vga *)dev;
    v->misc = v->feature = v->seq_index = v->crtc_index = v->gc_index = v->attr_index = 0;
    memset(v->seq, 0, sizeof v->seq);
    memset(v->crtc, 0, sizeof v->crtc);
    memset(v->gc, 0, sizeof v->gc);
    memset(v->attr, 0, sizeof v->attr);
    memset(v->dac, 0, sizeof v->dac);
    memset(v->dispi, 0, sizeof v->dispi);
    v->attr_data = false;
    v->dac_read = v->dac_write = v->dac_part = v->dac_state = 0;
    v->pel_mask = 0xFF;
    v->latch = 0;
    v->dispi_index = 0;
    v->dispi[VGA_DISPI_ID] = 0xB0C5;
    v->bank_bytes = 0;
    v->big_endian = false;
    v->changed = v->timing_stale = true;
    vga_update_window(v);
}

static int vga_add_ports(struct vga *v)
{
    struct emu *e = v->pci.dev.emu;
    int r = port_add(e, &v->mono_crtc, "vga crtc (mono)", 0x3B4, 2, &vga_mono_crtc_ops, v);
    if (!r)
        r = port_add(e, &v->mono_status, "vga status (mono)", 0x3BA, 1, &vga_mono_status_ops, v);
    if (!r)
        r = port_add(e, &v->ports, "vga", 0x3C0, 16, &vga_ports_ops, v);
    if (!r)
        r = port_add(e, &v->color_crtc, "vga crtc", 0x3D4, 2, &vga_color_crtc_ops, v);
    if (!r)
        r = port_add(e, &v->color_status, "vga status", 0x3DA, 1, &vga_color_status_ops, v);
    if (!r)
        r = port_add(e, &v->dispi_ports, "vbe dispi", 0x1CE, 3, &vga_dispi_ops, v);
    return r;
}

static int vga_create(struct device *dev, struct options *opts, struct err *err)
{
    struct vga *v = (struct vga *)dev;
    struct emu *e = dev->emu;
    uint64_t mib = 16;
    int r, devfn = e->pci && !e->pci->devices[2 << 3] ? 2 << 3 : -1; /* where QEMU has it, so that installed systems find it again */
    r = pci_parse_devfn(opts, &devfn, err);
    if (!r)
        r = options_u64(opts, "vgamem_mb", 1, 256, &mib, err);
    if (r)
        return r;
    if (mib & (mib - 1))
        return err_set(err, EMU_EINVAL, "%s: vgamem_mb=%u is not a power of two", opts->origin, (unsigned)mib);
    v->vram_bytes = (uint32_t)(mib * MIB);
    v->vram = ram_block_create(e, "vga.vram", v->vram_bytes, false, err);
    if (!v->vram)
        return EMU_ENOMEM;
    r = pci_device_init(&v->pci, devfn, 0x1234, 0x1111, 0x03000002, err);
    if (r)
        return r;
    pci_set_subsystem(&v->pci, 0x1AF4, 0x1100);
    pci_add_bar_ram(&v->pci, 0, v->vram, true);
    pci_add_bar_io(&v->pci, 2, "vga registers", VGA_MMIO_BYTES, false, &vga_mmio_ops, v);
    region_init_io(&v->window_io, "vga memory", &vga_window_ops, v, VGA_WINDOW_BYTES);
    r = region_add(e, &e->memory, &v->window_io, VGA_WINDOW, MAP_PRIO_VGA);
    if (!r)
        r = vga_add_ports(v);
    if (r)
        return err_set(err, r, "VGA: ports or memory are taken; is there a second VGA card?");
    vga_reset(dev);
    v->source.update = vga_render;
    v->source.text = vga_render_text;
    v->source.change_count = vga_change_count;
    v->source.opaque = v;
    e->display = &v->source;
    return 0;
}

static void vga_destroy(struct device *dev)
{
    struct vga *v = (struct vga *)dev;
    struct emu *e = dev->emu;
    struct region *ports[6];
    unsigned i;
    ports[0] = &v->mono_crtc, ports[1] = &v->mono_status, ports[2] = &v->ports;
    ports[3] = &v->color_crtc, ports[4] = &v->color_status, ports[5] = &v->dispi_ports;
    for (i = 0; i < EMU_ARRAY_LEN(ports); i++)
        region_remove(e, &e->ports, ports[i]);
    region_remove(e, &e->memory, &v->window_io);
    region_remove(e, &e->memory, &v->window_ram);
    if (e->display == &v->source)
        e->display = NULL;
    emu_free(e, v->pixels);
    pci_device_remove(&v->pci);
}

static const struct opt_desc vga_options[] = {
    { "vgamem_mb", "u32", "video memory in MiB, a power of two (16)" },
    { "addr", "str", "PCI slot[.function]" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class vga_class = {
    .name = "VGA", .bus = "pci", .help = "VGA with VBE extensions (std)", .options = vga_options,
    .instance_size = sizeof(struct vga), .create = vga_create, .reset = vga_reset, .destroy = vga_destroy, .user_creatable = true,
};
#undef VGA_WINDOW
#undef VGA_WINDOW_BYTES
#undef VGA_BANK_BYTES
#undef VGA_MAX_XRES
#undef VGA_MAX_YRES
#undef VGA_DEFAULT_LINE_NS
#undef VGA_ORDER_LITTLE
#undef VGA_ORDER_BIG
