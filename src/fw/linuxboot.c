/* fw/linuxboot.c - -kernel together with -bios: a Linux image that a foreign PC BIOS starts.
 *
 * Models     QEMU's firmware configuration keys for a kernel (FW_CFG_KERNEL_... and on), the Plug and Play BIOS specification 1.0A's option ROM with a
 *            bootstrap entry vector (§3.2), BIOS Boot Specification 1.01 §3 (who calls it).
 * Contract   bios.c calls linuxboot_create() when both options are there; loader.c has read the files and gives the image as the boot protocol wants it.
 * Theory     The image's pieces become fw_cfg keys: an address, a size and the bytes of each of real-mode setup, command line, protected-mode part and
 *            initrd. The ROM below becomes the file genroms/linuxboot.bin, which SeaBIOS takes for an option ROM, and `bootorder` puts it first. As
 *            SeaBIOS boots from it, the ROM has fw_cfg's DMA interface store every piece at its address and jumps to the setup code, which asks SeaBIOS
 *            for memory and tables as under any boot loader. Nothing here runs on the host after power-on, so that a reset does the same again.
 * Missing    Multiboot and PVH kernels, and Linux images of before protocol 2.02 (refused in one line); firmware that looks at neither.
 */
#include "../machine.h"
#include "fw.h"

enum { LINUXBOOT_KERNEL_ADDRESS = 0x07, LINUXBOOT_KERNEL_SIZE = 0x08, LINUXBOOT_INITRD_ADDRESS = 0x0A, LINUXBOOT_INITRD_SIZE = 0x0B, LINUXBOOT_KERNEL_DATA = 0x11,
       LINUXBOOT_INITRD_DATA = 0x12, LINUXBOOT_CMDLINE_ADDRESS = 0x13, LINUXBOOT_CMDLINE_SIZE = 0x14, LINUXBOOT_CMDLINE_DATA = 0x15, LINUXBOOT_SETUP_ADDRESS = 0x16,
       LINUXBOOT_SETUP_SIZE = 0x17, LINUXBOOT_SETUP_DATA = 0x18 };
enum { LINUXBOOT_ROM_BYTES = 512, LINUXBOOT_PNP = 0x1C, LINUXBOOT_PNP_BYTES = 32, LINUXBOOT_PNP_SUM = 9 };
/* What SeaBIOS keeps for tables at the end of the memory below 4 GiB is a quarter of this. */
#define LINUXBOOT_TOP_KEPT MIB
static const char linuxboot_name[] = "genroms/linuxboot.bin", linuxboot_order[] = "/rom@genroms/linuxboot.bin";

/* The setup code lies at 1000:0; a DMA request is built at 0:600h: control (key << 16 | select | read), length, address, all big-endian. */
static const uint8_t linuxboot_rom[] = {
    0x55, 0xAA, LINUXBOOT_ROM_BYTES / 512, 0xCB, /* the initialization does nothing: retf */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, LINUXBOOT_PNP, 0, /* 18h: no PCI data, offset of the next */
    '$', 'P', 'n', 'P', 1, LINUXBOOT_PNP_BYTES / 16, 0, 0, 0, 0, 0, 0, 0, 0, /* no further header; sum; no device id */
    0x3C, 0, 0x40, 0,                                                         /* names of maker and product */
    0, 0, 0x80, 0x44,                                                         /* other device; may be shadowed, boots */
    0, 0, 0, 0, 0x5D, 0, 0, 0, 0, 0,                                          /* neither BCV nor disconnect vector; BEV */
    'e', 'm', 'u', 0, 'L', 'i', 'n', 'u', 'x', ' ', 'o', 'f', ' ', '-', 'k', 'e', 'r', 'n', 'e', 'l', 0,
    /* keys: address, size, data of each piece */
    LINUXBOOT_SETUP_ADDRESS, LINUXBOOT_SETUP_SIZE, LINUXBOOT_SETUP_DATA,
    LINUXBOOT_CMDLINE_ADDRESS, LINUXBOOT_CMDLINE_SIZE, LINUXBOOT_CMDLINE_DATA,
    LINUXBOOT_KERNEL_ADDRESS, LINUXBOOT_KERNEL_SIZE, LINUXBOOT_KERNEL_DATA,
    LINUXBOOT_INITRD_ADDRESS, LINUXBOOT_INITRD_SIZE, LINUXBOOT_INITRD_DATA,
    0xFA, 0xFC, 0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x7C, /* bev: cli; cld; xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 7C00h */
    0xBE, 0x51, 0x00,                                                             /* mov si, keys */
    0xE8, 0x72, 0x00, 0x66, 0x89, 0xC7, 0xE8, 0x6C, 0x00, 0x66, 0x89, 0xC1,       /* piece: call value; mov edi, eax; call value; mov ecx, eax */
    0x2E, 0xAC, 0x66, 0x85, 0xC9, 0x74, 0x44, 0x66, 0x0F, 0xC9, 0x66, 0x0F, 0xCF, /* lodsb cs:[si]; test ecx, ecx; jz skip; bswap ecx; bswap edi */
    0x66, 0x0F, 0xB6, 0xC0, 0x66, 0xC1, 0xE0, 0x10, 0xB0, 0x0A, 0x66, 0x0F, 0xC8, /* movzx eax, al; shl eax, 16; mov al, 0Ah; bswap eax */
    0xBB, 0x00, 0x06, 0x66, 0x89, 0x07, 0x66, 0x89, 0x4F, 0x04,                   /* mov bx, 600h; mov [bx], eax; mov [bx+4], ecx */
    0x66, 0xC7, 0x47, 0x08, 0x00, 0x00, 0x00, 0x00, 0x66, 0x89, 0x7F, 0x0C,       /* mov [bx+8], 0; mov [bx+12], edi */
    0xBA, 0x14, 0x05, 0x66, 0x31, 0xC0, 0x66, 0xEF, 0xB2, 0x18,                   /* mov dx, 514h; xor eax, eax; out dx, eax; mov dl, 18h */
    0x66, 0xB8, 0x00, 0x00, 0x06, 0x00, 0x66, 0xEF,                               /* mov eax, 00060000h; out dx, eax */
    0x66, 0xF7, 0x07, 0xFF, 0xFF, 0xFF, 0xFE, 0x75, 0xF7,                         /* done: test [bx], FEFFFFFFh; jnz done */
    0x81, 0xFE, 0x5D, 0x00, 0x72, 0xA3, 0xB8, 0x00, 0x10, 0x8E, 0xD8, 0x8E, 0xC0, /* skip: cmp si, keys+12; jb piece; mov ax, 1000h; mov ds, ax; mov es, ax */
    0x8E, 0xE0, 0x8E, 0xE8, 0x8E, 0xD0, 0x66, 0xBC, 0xF0, 0xFF, 0x00, 0x00,       /* mov fs, ax; mov gs, ax; mov ss, ax; mov esp, FFF0h */
    0xEA, 0x00, 0x00, 0x20, 0x10,                                                 /* jmp 1020h:0 */
    0x2E, 0xAC, 0x30, 0xE4, 0xBA, 0x10, 0x05, 0xEF, 0x42, 0xB9, 0x04, 0x00,       /* value: lodsb cs:[si]; xor ah, ah; mov dx, 510h; out dx, ax; inc dx; mov cx, 4 */
    0xEC, 0x66, 0xC1, 0xC8, 0x08, 0xE2, 0xF9, 0xC3,                               /* octet: in al, dx; ror eax, 8; loop octet; ret */
};

static int linuxboot_add(struct emu *e, uint16_t address_key, uint32_t address, uint16_t size_key, uint16_t data_key, const void *data, size_t size)
{
    uint8_t word[4];
    int rc;
    st32le(word, address);
    rc = fw_cfg_add_key(e, address_key, word, sizeof word);
    st32le(word, (uint32_t)size);
    rc = rc ? rc : fw_cfg_add_key(e, size_key, word, sizeof word);
    return rc ? rc : fw_cfg_add_key(e, data_key, data, size);
}

static uint8_t linuxboot_missing_to_zero(const uint8_t *b, size_t n)
{
    uint8_t sum = 0;
    while (n--)
        sum = (uint8_t)(sum + *b++);
    return (uint8_t)(0 - sum);
}

EMU_PRIV int linuxboot_create(struct fw *fw, struct err *err)
{
    struct emu *e = fw->emu;
    const char *append = e->config.append ? e->config.append : "";
    struct loader_image i;
    uint8_t rom[LINUXBOOT_ROM_BYTES];
    int rc = loader_create(fw, err);
    if (rc)
        return rc;
    fw->tables_high = e->ram_below_4g - EMU_MIN(e->ram_below_4g / 2, (uint64_t)LINUXBOOT_TOP_KEPT);
    if ((rc = loader_linux_image(fw, &i, err)))
        return rc;
    memset(rom, 0, sizeof rom);
    memcpy(rom, linuxboot_rom, sizeof linuxboot_rom);
    rom[LINUXBOOT_PNP + LINUXBOOT_PNP_SUM] = linuxboot_missing_to_zero(rom + LINUXBOOT_PNP, LINUXBOOT_PNP_BYTES);
    rom[LINUXBOOT_ROM_BYTES - 1] = linuxboot_missing_to_zero(rom, sizeof rom);
    rc = linuxboot_add(e, LINUXBOOT_SETUP_ADDRESS, i.real, LINUXBOOT_SETUP_SIZE, LINUXBOOT_SETUP_DATA, i.head, i.setup);
    rc = rc ? rc : linuxboot_add(e, LINUXBOOT_CMDLINE_ADDRESS, i.cmdline, LINUXBOOT_CMDLINE_SIZE, LINUXBOOT_CMDLINE_DATA, append, strlen(append) + 1);
    rc = rc ? rc : linuxboot_add(e, LINUXBOOT_KERNEL_ADDRESS, i.kernel, LINUXBOOT_KERNEL_SIZE, LINUXBOOT_KERNEL_DATA, i.kernel_data, i.kernel_size);
    rc = rc ? rc : linuxboot_add(e, LINUXBOOT_INITRD_ADDRESS, i.initrd, LINUXBOOT_INITRD_SIZE, LINUXBOOT_INITRD_DATA, i.initrd_data, i.initrd_size);
    rc = rc ? rc : fw_cfg_add_file(e, linuxboot_name, rom, sizeof rom);
    rc = rc ? rc : fw_cfg_add_file(e, "bootorder", linuxboot_order, sizeof linuxboot_order);
    emu_free(e, i.head);
    loader_free(fw); /* fw_cfg has copies */
    return rc ? err_set(err, rc, "-kernel with -bios: %s", emu_strerror(rc)) : 0;
}
#undef LINUXBOOT_TOP_KEPT
