/* fw/fw.h - what the files of the built-in BIOS share.
 *
 * Contract   Only fw/ includes this; the rest of the machine sees firmware_create(), firmware_reset(), firmware_destroy() and
 *            loader_load() of machine.h.
 * Theory     A guest's INT n reaches a stub in the ROM. The stub pushes every register, streams that frame word by word into a private
 *            port (REP OUTSW), reads the port FW_PORT_RUN, which runs the service in C, streams the frame back (REP INSW) and acts
 *            on the command that the run gave: return, wait, call another vector, move user memory. Because the frame travels
 *            through ports and not by address, the same stub works in real mode, in virtual-8086 mode with paging, and
 *            under interpreters in user space (X's int10), whose stack is not where the guest-physical address says.
 * Invariants 1. The ROM stub holds interrupts off from FW_PORT_BEGIN to the command, so one frame is in flight at a time.
 *            2. A service keeps what must outlive a wait in the frame (phase, state), never in struct fw: calls nest.
 *            3. A service reads its user buffers before it changes anything, so that it may be run again (FW_FETCH).
 */
#ifndef EMU_FW_H
#define EMU_FW_H

/* Private ports; the DSDT reserves the range. */
enum fw_port {
    FW_PORT_BASE = 0x0E80,
    FW_PORT_BEGIN = FW_PORT_BASE,       /* write: a frame follows */
    FW_PORT_FRAME = FW_PORT_BASE + 2,   /* words of the frame, in and out */
    FW_PORT_RUN = FW_PORT_BASE + 4,     /* read: runs the service; AL = enum fw_command, AH = its argument */
    FW_PORT_DATA = FW_PORT_BASE + 6,    /* bytes of user memory (FW_FETCH, FW_STORE) */
    FW_PORT_PARAM = FW_PORT_BASE + 8,   /* words: arguments of the command, results of a call */
    FW_PORT_POST = FW_PORT_BASE + 10,   /* read: power-on self test; AL = enum fw_post */
    FW_PORT_END = FW_PORT_BASE + 16
};

/* ORDER fw_command: fw_rom_common() in bios.c compares with these numbers. */
enum fw_command {
    FW_DONE,       /* reload registers, IRET */
    FW_HALT,       /* STI, HLT, CLI, again from the start with the frame as it is now */
    FW_POLL,       /* STI, NOP, CLI, again (v86 mode: HLT would fault) */
    FW_CALL,       /* call interrupt vector AH, again */
    FW_FETCH,      /* OUTSB of user memory, then run again with the same frame */
    FW_STORE,      /* INSB into user memory, then run again */
    FW_CALL_AX,    /* call vector with AX and CF=1 from PARAM, hand AX and flags back, again */
    FW_CALL_MOUSE, /* call far with four words on the stack, again */
    FW_LAST_COMMAND = FW_CALL_MOUSE
};
enum fw_post { FW_POST_BOOT, FW_POST_RESUME, FW_POST_LOADER };

/* Service numbers are interrupt vectors, but for these. */
enum fw_service { FW_SERVICE_IRQ_LOW = 0xF0, FW_SERVICE_IRQ_HIGH = 0xF1, FW_SERVICE_IRQ9 = 0xF2, FW_SERVICE_NONE = 0xFF };

enum { FW_FRAME_WORDS = 24 };
enum { FW_CF = 0x0001, FW_ZF = 0x0040, FW_IF = 0x0200 };

/* The frame as it lies on the guest's stack. state overlays the ESP of PUSHAD, which POPAD ignores. */
struct fw_regs {
    uint16_t gs, fs, es, ds;
    uint32_t edi, esi, ebp, state, ebx, edx, ecx, eax;
    uint16_t service; /* low byte: enum fw_service or vector; high byte: phase, 0 at entry */
    uint16_t ip, cs, flags;
};
EMU_INLINE uint8_t fw_lo(uint32_t reg) { return (uint8_t)reg; }
EMU_INLINE uint8_t fw_hi(uint32_t reg) { return (uint8_t)(reg >> 8); }
EMU_INLINE void fw_put_lo(uint32_t *reg, unsigned v) { *reg = (*reg & 0xFFFFFF00u) | (v & 0xFFu); }
EMU_INLINE void fw_put_hi(uint32_t *reg, unsigned v) { *reg = (*reg & 0xFFFF00FFu) | ((v & 0xFFu) << 8); }
EMU_INLINE void fw_put_x(uint32_t *reg, unsigned v) { *reg = (*reg & 0xFFFF0000u) | (v & 0xFFFFu); }
EMU_INLINE unsigned fw_phase(const struct fw_regs *r) { return r->service >> 8; }
EMU_INLINE void fw_set_phase(struct fw_regs *r, unsigned phase) { r->service = (uint16_t)((r->service & 0xFF) | (phase << 8)); }
EMU_INLINE void fw_set_cf(struct fw_regs *r, bool on) { r->flags = (uint16_t)(on ? r->flags | FW_CF : r->flags & ~FW_CF); }
EMU_INLINE void fw_set_zf(struct fw_regs *r, bool on) { r->flags = (uint16_t)(on ? r->flags | FW_ZF : r->flags & ~FW_ZF); }

/* BIOS data area: offsets from linear 400h, names after their use. */
enum fw_bda {
    BDA_COM_PORTS = 0x400,
    BDA_LPT_PORTS = 0x408,
    BDA_EBDA_SEGMENT = 0x40E,
    BDA_EQUIPMENT = 0x410,
    BDA_MEMORY_KIB = 0x413,
    BDA_KBD_FLAGS = 0x417, /* word: 417h shift state, 418h keys held */
    BDA_KBD_ALT_INPUT = 0x419,
    BDA_KBD_HEAD = 0x41A,
    BDA_KBD_TAIL = 0x41C,
    BDA_KBD_BUFFER = 0x41E,
    BDA_FLOPPY_RECAL = 0x43E,
    BDA_FLOPPY_MOTOR = 0x43F,
    BDA_FLOPPY_MOTOR_TIMEOUT = 0x440,
    BDA_FLOPPY_STATUS = 0x441,
    BDA_VIDEO_MODE = 0x449,
    BDA_VIDEO_COLUMNS = 0x44A,
    BDA_VIDEO_PAGE_SIZE = 0x44C,
    BDA_VIDEO_PAGE_START = 0x44E,
    BDA_CURSOR_POS = 0x450,
    BDA_CURSOR_TYPE = 0x460,
    BDA_VIDEO_PAGE = 0x462,
    BDA_CRTC_PORT = 0x463,
    BDA_MODE_CONTROL = 0x465,
    BDA_CGA_PALETTE = 0x466,
    BDA_RESUME_VECTOR = 0x467,
    BDA_TICKS = 0x46C,
    BDA_MIDNIGHT = 0x470,
    BDA_BREAK = 0x471,
    BDA_RESET_FLAG = 0x472,
    BDA_DISK_STATUS = 0x474,
    BDA_DISK_COUNT = 0x475,
    BDA_LPT_TIMEOUT = 0x478,
    BDA_COM_TIMEOUT = 0x47C,
    BDA_KBD_START = 0x480,
    BDA_KBD_END = 0x482,
    BDA_VIDEO_ROWS = 0x484, /* minus one */
    BDA_CHAR_HEIGHT = 0x485,
    BDA_VIDEO_CONTROL = 0x487,
    BDA_VIDEO_SWITCHES = 0x488,
    BDA_VIDEO_MODESET = 0x489,
    BDA_VIDEO_DCC = 0x48A,
    BDA_FLOPPY_MEDIA = 0x490,
    BDA_KBD_MODE = 0x496,
    BDA_KBD_LEDS = 0x497,
    BDA_WAIT_USER = 0x498,
    BDA_WAIT_COUNT = 0x49C,
    BDA_WAIT_ACTIVE = 0x4A0,
    BDA_VIDEO_SAVE_TABLE = 0x4A8
};
enum fw_layout {
    FW_EBDA_SEGMENT = 0x9FC0,
    FW_EBDA = 0x9FC00,
    EBDA_MOUSE_HANDLER = FW_EBDA + 0x22, /* far pointer, as PS/2 BIOSes keep it */
    EBDA_MOUSE_FLAGS1 = FW_EBDA + 0x26,  /* bits 0-2: bytes received */
    EBDA_MOUSE_FLAGS2 = FW_EBDA + 0x27,  /* bit 7: handler set, bits 0-2: packet size - 1 */
    EBDA_MOUSE_DATA = FW_EBDA + 0x28,    /* 8 bytes */
    EBDA_DISK0 = FW_EBDA + 0x3D,         /* fixed disk parameter tables */
    EBDA_DISK1 = FW_EBDA + 0x4D,
    EBDA_DPT = FW_EBDA + 0x60,           /* EDD device path and parameter table extension target, 64 bytes */
    FW_VGA_ROM = 0xC0000,
    FW_VGA_ROM_BYTES = 0x8000,
    FW_ROM_BASE = 0xE0000,
    FW_ROM_BYTES = 0x20000,
    FW_LOADER_CODE = 0xFD800, /* loader.c's trampoline, 256 bytes */
    FW_TABLES_LOW = 0xF0000,  /* SMBIOS, MP, PIR, RSDP grow from here */
    FW_TABLES_LOW_END = 0xFC000
};

/* INT 15h E820 types (ACPI 6 §15). */
enum fw_e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };
struct fw_e820 {
    uint64_t base, size;
    uint32_t type;
};

enum fw_drive_kind { FW_DRIVE_NONE, FW_DRIVE_FLOPPY, FW_DRIVE_DISK, FW_DRIVE_CD };
/* One drive that INT 13h offers, in order of the drive numbers within its kind. */
struct fw_drive {
    struct blk *blk;
    uint8_t kind;          /* enum fw_drive_kind */
    uint8_t channel, unit; /* IDE channel and unit, or floppy unit */
    uint16_t cylinders, heads, sectors;     /* what INT 13h/08h reports */
    uint16_t phys_cylinders, phys_heads, phys_sectors;
    uint16_t sector_bytes; /* 512 or 2048 */
    bool locked;
    int bootindex; /* -1: none given */
};
enum { FW_MAX_DRIVES = 16 };

/* El Torito: a CD image that stands in for a floppy or hard disk, or the CD itself without emulation. */
struct fw_eltorito {
    bool active;
    uint8_t media;       /* 0 none, 1-3 floppy, 4 hard disk */
    uint8_t drive;       /* emulated drive number */
    struct fw_drive *cd;
    uint32_t image_lba;  /* 2048-byte sectors */
    uint64_t image_sectors; /* 512-byte sectors */
    uint16_t load_segment, load_sectors;
    uint16_t cylinders, heads, sectors;
};

struct fw_boot_entry {
    uint8_t kind; /* enum fw_drive_kind */
    struct fw_drive *drive;
    int order;
};

struct fw_store { /* a write to user memory that the stub is to make (relay) */
    uint16_t seg, off;
    uint32_t size;
    size_t at; /* in relay_out */
};

struct fw_vbe_mode;
struct fw_loader;

struct fw {
    struct emu *emu;
    struct ram_block *rom;         /* 128 KiB for E0000-FFFFF and below 4 GiB; -bios: the file */
    struct region rom_low, rom_high;
    struct region ports;
    bool builtin;                  /* false: -bios */

    /* the frame in flight */
    uint8_t frame[FW_FRAME_WORDS * 2];
    unsigned frame_at;
    uint16_t params[8];
    unsigned param_at;
    uint16_t results[2]; /* of FW_CALL_AX: AX, flags */
    unsigned result_at;
    bool paged;          /* v86: linear addresses go through the page tables */
    bool relay;          /* an interpreter runs the stub: user memory only through the port */
    bool halt_ok;        /* HLT does not fault here */
    struct fw_regs relay_regs;
    uint16_t fetch_seg, fetch_off;
    uint32_t fetch_size, fetch_got;
    bool fetch_wanted;
    uint8_t fetched[8192]; /* the longest that a service reads: a font of 256 characters of 32 lines */
    struct buf relay_out;
    struct fw_store stores[8];
    unsigned store_count, store_next;
    size_t store_at, store_end;
    unsigned held_command; /* given once the stores are done */
    bool held;

    /* machine description */
    struct fw_e820 e820[16];
    unsigned e820_count;
    struct fw_drive drives[FW_MAX_DRIVES];
    unsigned drive_count;
    uint8_t disk_count, floppy_count, cd_count;
    struct fw_eltorito eltorito;
    struct fw_boot_entry boot[FW_MAX_DRIVES];
    unsigned boot_count, boot_next;
    char boot_tried[300];
    uint32_t tables_low_at; /* next free byte between FW_TABLES_LOW and its end */
    uint64_t tables_high;   /* base of the reserved block below top of RAM */
    uint32_t rsdp_gpa, smbios_gpa, mp_gpa;

    /* video */
    uint32_t lfb_gpa;      /* BAR0 of the VGA device, 0 = none */
    uint32_t vram_bytes;
    uint16_t vga_io;       /* reserved */
    uint16_t vbe_mode;     /* present VBE mode or FFFFh */
    uint16_t font8_off, font14_off, font16_off, vbe_modes_off, vbe_oem_off, static_off, params_off, save_off, int10_off, vbe_pm_off;
    bool has_vga;

    struct nap_watch key_nap; /* who asks INT 16h for a key again and again sleeps between */
    struct fw_loader *loader; /* -kernel, or NULL */
    bool said_unknown;
};

/* ---- bios.c: core ---- */
EMU_PRIV uint8_t fw_ld8(struct fw *fw, uint32_t lin);
EMU_PRIV uint16_t fw_ld16(struct fw *fw, uint32_t lin);
EMU_PRIV uint32_t fw_ld32(struct fw *fw, uint32_t lin);
enum { FW_TICKS_PER_DAY = 0x1800B0 }; /* of 55 ms; the BIOS data area's counter begins anew at midnight */
EMU_PRIV uint32_t fw_ticks_since(struct fw *fw, uint32_t start); /* start: that counter's value then, less than a day ago */
EMU_PRIV void fw_st8(struct fw *fw, uint32_t lin, unsigned v);
EMU_PRIV void fw_st16(struct fw *fw, uint32_t lin, unsigned v);
EMU_PRIV void fw_st32(struct fw *fw, uint32_t lin, uint32_t v);
EMU_PRIV void fw_read(struct fw *fw, uint32_t lin, void *buf, size_t size);
EMU_PRIV void fw_write(struct fw *fw, uint32_t lin, const void *buf, size_t size);
/* A caller's buffer at seg:off; through the port when an interpreter runs the stub. false: not there yet, leave at once. */
EMU_PRIV bool fw_user_read(struct fw *fw, uint16_t seg, uint16_t off, void *buf, size_t size);
EMU_PRIV void fw_user_write(struct fw *fw, uint16_t seg, uint16_t off, const void *buf, size_t size);
EMU_PRIV unsigned fw_wait(struct fw *fw); /* FW_HALT, or FW_POLL where HLT would fault */
EMU_PRIV bool fw_vector_is_ours(struct fw *fw, unsigned vector);
EMU_PRIV void fw_set_vector(struct fw *fw, unsigned vector, uint16_t seg, uint16_t off);
EMU_PRIV uint16_t fw_default_vector(unsigned vector); /* offset of the stub in segment F000h, or 0 */
EMU_PRIV unsigned fw_outb(struct fw *fw, unsigned port, unsigned value); /* returns value */
EMU_PRIV uint8_t fw_inb(struct fw *fw, unsigned port);
EMU_PRIV uint8_t fw_cmos(struct fw *fw, unsigned index);
EMU_PRIV void fw_cmos_set(struct fw *fw, unsigned index, unsigned value);
EMU_PRIV uint32_t fw_table_low(struct fw *fw, const void *data, size_t size, unsigned align); /* address in F0000-FFFFF, 0 = full */
EMU_PRIV void fw_print(struct fw *fw, const char *text);         /* on the screen */
EMU_PRIV void fw_print_serial(struct fw *fw, const char *text);
EMU_PRIV void fw_eoi(struct fw *fw, unsigned irq);
EMU_PRIV uint8_t fw_checksum(const uint8_t *p, size_t size); /* value that makes the sum 0 */
EMU_PRIV void fw_run_frame(struct fw *fw, struct fw_regs *r, unsigned *command); /* tests call it too */
EMU_PRIV unsigned fw_post(struct fw *fw);
EMU_PRIV void fw_build_rom(uint8_t rom[FW_ROM_BYTES]);
EMU_PRIV void fw_build_e820(struct fw *fw);

/* ---- bios_misc.c ---- */
EMU_PRIV unsigned fw_int08(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int09(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int11(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int12(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int14(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int15(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int16(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int17(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int1a(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int70(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int74(struct fw *fw, struct fw_regs *r);
EMU_PRIV void fw_kbd_init(struct fw *fw);
EMU_PRIV void fw_serial_init(struct fw *fw);
EMU_PRIV void fw_clock_init(struct fw *fw);
EMU_PRIV bool fw_kbd_get(struct fw *fw, uint16_t *key, bool remove);

/* ---- bios_disk.c ---- */
EMU_PRIV void fw_disk_init(struct fw *fw);
EMU_PRIV unsigned fw_int13(struct fw *fw, struct fw_regs *r);
EMU_PRIV void fw_boot_list(struct fw *fw);
EMU_PRIV unsigned fw_int18(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int19(struct fw *fw, struct fw_regs *r);
EMU_PRIV unsigned fw_int0e(struct fw *fw, struct fw_regs *r);
EMU_PRIV void fw_disk_translate(uint64_t sectors, unsigned phys_heads, unsigned phys_sectors, uint16_t *cylinders, uint16_t *heads, uint16_t *spt);

/* ---- bios_video.c ---- */
EMU_PRIV void fw_video_init(struct fw *fw); /* ROM at C0000, mode 3 */
EMU_PRIV unsigned fw_int10(struct fw *fw, struct fw_regs *r);
EMU_PRIV void fw_video_teletype(struct fw *fw, uint8_t ch);

/* ---- font.c ---- */
EMU_PRIV void font_render(uint8_t *out, unsigned height); /* 256 glyphs of 8 x height; height 8, 14 or 16 */

/* ---- acpi.c ---- */
struct acpi_pointer {
    uint32_t offset; /* of the field, which holds an offset into the blob */
    uint8_t size;
};
struct acpi_checksum {
    uint32_t start, size, field;
};
struct acpi_blob { /* tables with fields relative to their own start, for any loader to relocate */
    struct buf data;
    struct acpi_pointer pointers[64];
    unsigned pointer_count;
    struct acpi_checksum checksums[16];
    unsigned checksum_count;
    uint32_t rsdt, xsdt, facs, dsdt, fadt, madt, hpet;
};
EMU_PRIV int acpi_build(struct emu *e, struct acpi_blob *b);
EMU_PRIV void acpi_blob_free(struct acpi_blob *b);
EMU_PRIV void acpi_relocate(struct acpi_blob *b, uint64_t base); /* pointers become absolute, checksums right */
EMU_PRIV void acpi_rsdp(uint8_t out[36], uint64_t rsdt_gpa, uint64_t xsdt_gpa);
EMU_PRIV int acpi_install(struct fw *fw);
EMU_PRIV int acpi_publish_fw_cfg(struct emu *e); /* for SeaBIOS */

/* ---- smbios.c ---- */
EMU_PRIV int smbios_build(struct emu *e, struct buf *tables, uint8_t anchor[31], struct err *err);
EMU_PRIV int smbios_install(struct fw *fw);
EMU_PRIV int smbios_publish_fw_cfg(struct emu *e);

/* ---- mptable.c ---- */
EMU_PRIV void mptable_install(struct fw *fw);
EMU_PRIV void pir_install(struct fw *fw); /* $PIR */

/* ---- pcisetup.c ---- */
EMU_PRIV void pcisetup_run(struct fw *fw);
EMU_PRIV uint8_t pcisetup_irq(unsigned slot, unsigned pin); /* pin 1-4 */
EMU_PRIV unsigned fw_pcibios(struct fw *fw, struct fw_regs *r);

/* ---- loader.c ---- */
EMU_PRIV int loader_create(struct fw *fw, struct err *err); /* reads and checks the files of -kernel, -initrd */
EMU_PRIV void loader_free(struct fw *fw);
struct loader_image { /* a Linux image in its pieces, for its real-mode entry */
    unsigned version, vga;
    size_t setup;  /* bytes of real-mode code */
    uint8_t *head; /* them, the header filled in; the caller frees it */
    bool high;
    uint32_t real, cmdline, kernel, initrd; /* where they belong */
    const uint8_t *kernel_data, *initrd_data;
    size_t kernel_size, initrd_size;
};
EMU_PRIV int loader_linux_image(struct fw *fw, struct loader_image *i, struct err *err); /* refuses what has no such pieces above 1 MiB */

/* ---- linuxboot.c ---- */
EMU_PRIV int linuxboot_create(struct fw *fw, struct err *err); /* -kernel under a foreign BIOS */

#endif
