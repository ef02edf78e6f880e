/* dev/vga.h - state of the VGA card, shared by vga.c (registers, memory) and vga_render.c (the picture).
 *
 * Theory     Video memory is kept as it is displayed: in units of four bytes, one for each plane. A planar or text access touches
 *            bytes 0-3 of unit n; chain-4 and linear accesses see the same bytes in a row. So the linear framebuffer, chain-4 at
 *            A0000h and mode X are one memory without copying, and chain-4 and linear windows can be mapped as plain RAM. The price: what
 *            one addressing mode wrote reads shuffled in another, differently from IBM's wiring (no program found relies on it).
 */
#ifndef EMU_DEV_VGA_H
#define EMU_DEV_VGA_H

enum { /* VBE dispi registers (Bochs VBE display API, as QEMU's stdvga extends it) */
    VGA_DISPI_ID = 0,
    VGA_DISPI_XRES = 1,
    VGA_DISPI_YRES = 2,
    VGA_DISPI_BPP = 3,
    VGA_DISPI_ENABLE = 4,
    VGA_DISPI_BANK = 5,
    VGA_DISPI_VIRT_WIDTH = 6,
    VGA_DISPI_VIRT_HEIGHT = 7,
    VGA_DISPI_X_OFFSET = 8,
    VGA_DISPI_Y_OFFSET = 9,
    VGA_DISPI_MEMORY_64K = 10,
    VGA_DISPI_COUNT = 11
};
enum { VGA_DISPI_ENABLED = 0x01, VGA_DISPI_GETCAPS = 0x02, VGA_DISPI_8BIT_DAC = 0x20, VGA_DISPI_LFB = 0x40, VGA_DISPI_NOCLEAR = 0x80 };

struct vga {
    struct pci_device pci;
    struct ram_block *vram;
    uint32_t vram_bytes;
    struct region window_io;  /* A0000h-BFFFFh */
    struct region window_ram; /* the same, where it can be plain RAM */
    uint64_t window_offset;   /* of window_ram in vram, while it is added */
    struct region mono_crtc, mono_status, ports, color_crtc, color_status, dispi_ports;

    uint8_t misc, feature;
    uint8_t seq_index, seq[5];
    uint8_t crtc_index, crtc[0x19];
    uint8_t gc_index, gc[9];
    uint8_t attr_index, attr[0x15]; /* attr_index: bit 5 = screen on */
    bool attr_data;                 /* flip-flop: the next write to 3C0h is data */
    uint8_t dac[768], dac_read, dac_write, dac_part, dac_state, pel_mask;
    uint32_t latch;                 /* plane n in bits 8n..8n+7 */
    uint16_t dispi_index, dispi[VGA_DISPI_COUNT];
    uint32_t bank_bytes;
    bool big_endian;                /* framebuffer byte order of 15, 16 and 32 bpp */

    /* picture */
    struct display_source source;
    uint32_t *pixels;
    size_t pixel_capacity;
    uint64_t changes;
    bool changed;         /* a register that the picture depends on was written */
    uint8_t blink_phase;  /* of the last look */
    /* raster timing of the present mode, from the CRTC */
    bool timing_stale;
    int64_t line_ns, visible_ns; /* of a line, and of its visible part */
    unsigned lines, visible_lines, retrace_start, retrace_end;
};

/* vga.c */
EMU_PRIV uint32_t vga_dispi_line_bytes(const struct vga *v);
EMU_PRIV void vga_update_timing(struct vga *v);
EMU_PRIV unsigned vga_display_lines(const struct vga *v); /* scan lines of the visible area */
/* vga_render.c: struct display_source's functions */
EMU_PRIV void vga_render(void *opaque, struct screen *out);
EMU_PRIV bool vga_render_text(void *opaque, struct screen_text *out);
EMU_PRIV uint64_t vga_change_count(void *opaque);

#endif
