/* graphics.c - what a guest draws is what screendump writes, in VGA's 256-colour mode 13h, its planar mode 12h and a VBE mode of 800 x 600 with a linear
 * frame buffer of 32 bits: PPM, PNG and emu_get_screen(), pixel by pixel.
 *
 * The guest is a boot sector that draws one pattern after the other by itself (no drawing call of the BIOS), sends '1', '2', '3' by the serial port after
 * each and waits there for a byte. Expected values: VGA's 256-colour memory is one byte a pixel, its colours what the DAC was given (0 or 63 of 63); in
 * mode 12h plane p holds bit p of the colour, eight pixels a byte, and the colours are IBM's sixteen (of 63: 0, 21, 42, 63); VBE 3.0 §4.4: mode
 * attributes, bytes per scan line, PhysBasePtr.
 */
#include "../emu.h"
#include "picture.h"
#include "test.h"

static const uint8_t boot_sector[] = {
    0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x7C, 0xFC,       /* xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 7C00h; cld */
    0xB8, 0x13, 0x00, 0xCD, 0x10, 0xBA, 0xC8, 0x03, 0x31, 0xC0, 0xEE, 0x42,       /* mov ax, 0013h; int 10h; mov dx, 3C8h; xor ax, ax; out dx, al; inc dx */
    0x31, 0xC9,                                                                   /* xor cx, cx */
    0x88, 0xCB, 0xB7, 0x03,                                                       /* pal: mov bl, cl; mov bh, 3 */
    0xD0, 0xEB, 0x18, 0xC0, 0x24, 0x3F, 0xEE, 0xFE, 0xCF, 0x75, 0xF5, 0xFE, 0xC1, /* comp: shr bl, 1; sbb al, al; and al, 63; out dx, al; dec bh; jnz comp; inc cl */
    0x75, 0xED, 0xB8, 0x00, 0xA0, 0x8E, 0xC0, 0x31, 0xFF, 0x31, 0xD2,             /* jnz pal; mov ax, A000h; mov es, ax; xor di, di; xor dx, dx */
    0x31, 0xC9,                                                                   /* row: xor cx, cx */
    0x88, 0xC8, 0x30, 0xD0, 0xAA, 0x41, 0x81, 0xF9, 0x40, 0x01, 0x72, 0xF4, 0x42, /* px: mov al, cl; xor al, dl; stosb; inc cx; cmp cx, 320; jb px; inc dx */
    0x81, 0xFA, 0xC8, 0x00, 0x72, 0xEB, 0xB0, 0x31, 0xE8, 0xFC, 0x00,             /* cmp dx, 200; jb row; mov al, '1'; call tell */
    0xB8, 0x12, 0x00, 0xCD, 0x10, 0x31, 0xDB,                                     /* mov ax, 0012h; int 10h; xor bx, bx */
    0x88, 0xD9, 0xB8, 0x02, 0x01, 0xD2, 0xE4, 0xBA, 0xC4, 0x03, 0xEF, 0x31, 0xFF, /* plane: mov cl, bl; mov ax, 0102h; shl ah, cl; mov dx, 3C4h; out dx, ax; xor di, di */
    0x31, 0xD2,                                                                   /* xor dx, dx */
    0x31, 0xF6,                                                                   /* r2: xor si, si */
    0x89, 0xF0, 0x01, 0xD0, 0xD3, 0xE8, 0x24, 0x01, 0xF6, 0xD8, 0xAA, 0x46,       /* c2: mov ax, si; add ax, dx; shr ax, cl; and al, 1; neg al; stosb; inc si */
    0x83, 0xFE, 0x50, 0x72, 0xEF, 0x42, 0x81, 0xFA, 0xE0, 0x01, 0x72, 0xE6, 0x43, /* cmp si, 80; jb c2; inc dx; cmp dx, 480; jb r2; inc bx */
    0x80, 0xFB, 0x04, 0x72, 0xD1, 0xB0, 0x32, 0xE8, 0xC1, 0x00, 0x1E, 0x07,       /* cmp bl, 4; jb plane; mov al, '2'; call tell; push ds; pop es */
    0xBF, 0x00, 0x80, 0x66, 0xC7, 0x05, 0x56, 0x42, 0x45, 0x32, 0xB8, 0x00, 0x4F, /* mov di, 8000h; mov [di], 32454256h; mov ax, 4F00h */
    0xCD, 0x10, 0x83, 0xF8, 0x4F, 0x0F, 0x85, 0xA2, 0x00,                         /* int 10h; cmp ax, 4Fh; jne fail */
    0x0F, 0xB4, 0x36, 0x0E, 0x80,                                                 /* lfs si, [800Eh] */
    0x64, 0x8B, 0x0C, 0x46, 0x46, 0x83, 0xF9, 0xFF, 0x0F, 0x84, 0x91, 0x00,       /* next: mov cx, fs:[si]; inc si; inc si; cmp cx, -1; je fail */
    0xBF, 0x00, 0x82, 0xB8, 0x01, 0x4F, 0xCD, 0x10, 0x83, 0xF8, 0x4F, 0x75, 0xE7, /* mov di, 8200h; mov ax, 4F01h; int 10h; cmp ax, 4Fh; jne next */
    0xF6, 0x05, 0x80, 0x74, 0xE2, 0x81, 0x7D, 0x12, 0x20, 0x03, 0x75, 0xDB,       /* test [di], 80h; jz next; cmp [di+12h], 800; jne next */
    0x81, 0x7D, 0x14, 0x58, 0x02, 0x75, 0xD4, 0x80, 0x7D, 0x19, 0x20, 0x75, 0xCE, /* cmp [di+14h], 600; jne next; cmp [di+19h], 32; jne next */
    0x89, 0xCB, 0x80, 0xCF, 0x40, 0xB8, 0x02, 0x4F, 0xCD, 0x10, 0x83, 0xF8, 0x4F, /* mov bx, cx; or bh, 40h; mov ax, 4F02h; int 10h; cmp ax, 4Fh */
    0x75, 0x5C, 0xFA, 0xE4, 0x92, 0x0C, 0x02, 0xE6, 0x92,                         /* jne fail; cli; in al, 92h; or al, 2; out 92h, al */
    0x0F, 0x01, 0x16, 0x5B, 0x7D, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0, /* lgdt [gdtr]; mov eax, cr0; or al, 1; mov cr0, eax */
    0xBB, 0x08, 0x00, 0x8E, 0xEB, 0x24, 0xFE, 0x0F, 0x22, 0xC0,                   /* mov bx, 8; mov gs, bx; and al, FEh; mov cr0, eax */
    0x66, 0x8B, 0x3E, 0x28, 0x82, 0x66, 0x0F, 0xB7, 0x2E, 0x10, 0x82, 0x31, 0xD2, /* mov edi, [8228h]; movzx ebp, [8210h]; xor dx, dx */
    0x66, 0x89, 0xFE, 0x31, 0xC9,                                                 /* r3: mov esi, edi; xor cx, cx */
    0x66, 0x0F, 0xB6, 0xC1, 0x66, 0xC1, 0xE0, 0x10, 0x88, 0xD4, 0x88, 0xC8,       /* p3: movzx eax, cl; shl eax, 16; mov ah, dl; mov al, cl */
    0x00, 0xD0, 0x65, 0x67, 0x66, 0x89, 0x06, 0x66, 0x83, 0xC6, 0x04, 0x41,       /* add al, dl; mov gs:[esi], eax; add esi, 4; inc cx */
    0x81, 0xF9, 0x20, 0x03, 0x72, 0xE2, 0x66, 0x01, 0xEF, 0x42,                   /* cmp cx, 800; jb p3; add edi, ebp; inc dx */
    0x81, 0xFA, 0x58, 0x02, 0x72, 0xD3, 0xB0, 0x33, 0xEB, 0x02,                   /* cmp dx, 600; jb r3; mov al, '3'; jmp say */
    0xB0, 0x3F,                                                                   /* fail: mov al, '?' */
    0xE8, 0x02, 0x00, 0xEB, 0xFB,                                                 /* say: call tell; jmp say */
    0xBA, 0xF8, 0x03, 0xEE, 0xB2, 0xFD,                                           /* tell: mov dx, 3F8h; out dx, al; mov dl, FDh */
    0xEC, 0xA8, 0x01, 0x74, 0xFB, 0xB2, 0xF8, 0xEC, 0xC3,                         /* w: in al, dx; test al, 1; jz w; mov dl, F8h; in al, dx; ret */
    0x0F, 0x00, 0x61, 0x7D, 0x00, 0x00, /* gdtr: limit 15, base 7D61h */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xFF, 0xFF, 0x00, 0x00, 0x00, 0x92, 0xCF, 0x00 /* data, base 0, 4 GiB */
};

static uint8_t disk[64 * 512];
static char said; /* the byte that the guest sent last */

static int disk_read(void *opaque, uint64_t offset, void *buffer, size_t bytes)
{
    (void)opaque;
    if (offset > sizeof disk || bytes > sizeof disk - offset)
        return EMU_EIO;
    memcpy(buffer, disk + offset, bytes);
    return 0;
}
static void heard(void *opaque, const void *bytes, size_t count)
{
    (void)opaque;
    said = ((const char *)bytes)[count - 1];
}

static uint32_t rgb(unsigned r, unsigned g, unsigned b) { return (uint32_t)r << 16 | (uint32_t)g << 8 | b; }

/* The guest's patterns. */
static uint32_t mode_13h(int x, int y)
{
    int c = (x ^ y) & 255;
    return rgb(c & 1 ? 255 : 0, c & 2 ? 255 : 0, c & 4 ? 255 : 0);
}
static uint32_t mode_12h(int x, int y)
{
    int c = (x / 8 + y) & 15;
    unsigned dim = c & 8 ? 0x55 : 0, bright = c & 8 ? 0xFF : 0xAA;
    return c == 6 ? rgb(0xAA, 0x55, 0) /* brown, not dark yellow */ : rgb(c & 4 ? bright : dim, c & 2 ? bright : dim, c & 1 ? bright : dim);
}
static uint32_t vbe_800(int x, int y) { return rgb(x & 255, y & 255, (x + y) & 255); }

/* A DAC of 6 bits has no one right way to 8: 42 of 63 is A8h to ABh. */
static int same(uint32_t a, uint32_t b)
{
    int shift;
    for (shift = 0; shift < 24; shift += 8) {
        int d = (int)(a >> shift & 255) - (int)(b >> shift & 255);
        if (d < -3 || d > 3)
            return 0;
    }
    return 1;
}
/* The picture is the mode's, a pixel of the guest's once or twice across and down. */
static void shows(int *test_failed, const char *what, const uint32_t *pixels, int width, int height, int stride, int guest_width, int guest_height, uint32_t (*pattern)(int, int))
{
    int x, y, across = width / guest_width, down = height / guest_height;
    CHECK(across >= 1 && across <= 2 && down >= 1 && down <= 2 && width == across * guest_width && height == down * guest_height);
    for (y = 0; y < height; y++)
        for (x = 0; x < width; x++)
            if (!same(pixels[y * stride + x] & 0xFFFFFF, pattern(x / across, y / down))) {
                printf("%s: pixel %d, %d is %06x, wanted %06x\n", what, x, y, (unsigned)pixels[y * stride + x] & 0xFFFFFF, (unsigned)pattern(x / across, y / down));
                *test_failed = 1;
                return;
            }
}

TEST(screendumps_show_what_the_guest_drew)
{
    static const struct {
        const char *name;
        int width, height;
        uint32_t (*pattern)(int x, int y);
    } modes[] = { { "mode13h", 320, 200, mode_13h }, { "mode12h", 640, 480, mode_12h }, { "vbe800", 800, 600, vbe_800 } };
    static const char *const options[] = { "-m", "16M", "-net", "none", "-drive", "file=embed:disk,format=raw,if=ide,readonly=on", "-serial", "embed:line" };
    struct emu_disk_ops ops;
    struct emu_limits limits = { 20000000, -1, 1 };
    char error[300] = "", line[80], reply[200];
    struct emu *m = emu_new(NULL);
    int i, k, round;
    CHECK(m != NULL);
    memset(&ops, 0, sizeof ops);
    memcpy(disk, boot_sector, sizeof boot_sector);
    disk[510] = 0x55;
    disk[511] = 0xAA;
    ops.bytes = sizeof disk;
    ops.read_only = 1;
    ops.read = disk_read;
    CHECK(!emu_provide_disk(m, "disk", &ops, NULL) && !emu_provide_serial(m, "line", heard, NULL));
    CHECK_EQ(emu_configure(m, (int)(sizeof options / sizeof options[0]), options, error, sizeof error), 0);
    for (i = 0; i < 3; i++) {
        struct emu_screen s;
        for (round = 0; round < 3000 && said != '1' + i && said != '?'; round++)
            CHECK_EQ(emu_run(m, &limits, NULL), 0);
        CHECK_EQ(said, '1' + i);
        CHECK_EQ(emu_get_screen(m, &s), 0);
        shows(test_failed, modes[i].name, s.pixels, s.width, s.height, s.stride_pixels, modes[i].width, modes[i].height, modes[i].pattern);
        for (k = 0; k < 2; k++) {
            struct picture p;
            snprintf(line, sizeof line, "screendump build/tests/graphics-%s.%s", modes[i].name, k ? "png" : "ppm");
            CHECK_EQ(emu_monitor(m, line, reply, sizeof reply), 0);
            CHECK(!strcmp(reply, ""));
            CHECK(picture_load(line + strlen("screendump "), &p));
            shows(test_failed, line, p.pixels, p.width, p.height, p.width, modes[i].width, modes[i].height, modes[i].pattern);
            free(p.pixels);
        }
        CHECK_EQ(emu_serial_input(m, "line", "n", 1), 1);
    }
    emu_destroy(m);
}

TEST_MAIN(TEST_CASE(screendumps_show_what_the_guest_drew))
