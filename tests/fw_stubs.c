/* fw_stubs.c - the ROM's stubs on the running CPU: a boot sector of ours calls the BIOS as DOS programs do.
 *
 * The sector is written below as bytes with its assembly beside it. It notes what it saw from 0600h on; the test reads that memory through
 * emu.h. Expectations: IBM PS/2 and PC BIOS interface (registers kept, INT 1Ch called at each tick, INT 15h/4Fh asked for each key,
 * INT 15h/C2h mouse handler with status, X, Y, Z on the stack, far return).
 */
#include "../emu.h"
#include "test.h"

static uint8_t sector[512];
static unsigned at;

static void code(const char *hex)
{
    unsigned v = 0, n = 0;
    for (; *hex; hex++) {
        int d = *hex >= '0' && *hex <= '9' ? *hex - '0' : *hex >= 'A' && *hex <= 'F' ? *hex - 'A' + 10 : -1;
        if (d < 0)
            continue;
        v = v << 4 | (unsigned)d;
        if (++n % 2 == 0) {
            sector[at++] = (uint8_t)v;
            v = 0;
        }
    }
}

static void patch(unsigned where) /* the address of what follows */
{
    sector[where] = (uint8_t)at;
    sector[where + 1] = (uint8_t)((0x7C00 + at) >> 8);
}

static void build(void)
{
    unsigned patch_1c, patch_15, patch_mouse;
    memset(sector, 0, sizeof sector);
    at = 0;
    code("31C0 8ED8 8EC0"                       /* ds = es = 0 */
         "66B811112222 66BB33334444 66B955556666" /* eax, ebx, ecx */
         "66BA77778888 66BE9999AAAA 66BFBBBBCCCC 66BDDDDDEEEE" /* edx, esi, edi, ebp */
         "CD12"                                 /* int 12h */
         "66A30006 66891E0406 66890E0806 6689160C06 6689361006 66893E1406 66892E1806 89261C06"); /* store all and sp */
    code("C7067000"), patch_1c = at, code("0000 C70672000000"); /* [1Ch] = 0000:handler */
    code("66A15400 66A34006"                    /* old INT 15h to 640h */
         "C7065400"), patch_15 = at, code("0000 C70656000000");
    code("FB"                                   /* sti */
         "8B1E6C04"                             /* bx = [046Ch] */
         "3B1E6C04 74FA"                        /* until it changes */
         "C70620060100"                         /* [620h] = 1 */
         "B400 CD16 A32206"                     /* int 16h/00h: [622h] = ax */
         "B486 31C9 BA204E CD15"                /* int 15h/86h: 20 ms */
         "C70624060100"
         "B805C2 B703 CD15 7204 FE063006"       /* int 15h/C205h, BH = 3; no carry: inc [630h] */
         "B807C2 BB"), patch_mouse = at, code("0000 CD15 7204 FE063006" /* C207h: handler at es:bx */
         "B800C2 B701 CD15 7204 FE063006"       /* C200h: enable */
         "C7062A06AA55"                         /* [62Ah] = 55AAh */
         "F4 EBFD");                            /* hlt; jmp back to it */
    patch(patch_1c);
    code("2EFF062606 CF");                      /* inc cs:[626h]; iret (cs = 0) */
    patch(patch_15);
    code("80FC4F 7405"                          /* cmp ah, 4Fh; je over the jump */
         "2EFF2E4006"                           /* jmp far cs:[640h] */
         "2EA22806"                             /* cs:[628h] = al */
         "2EFE062906"                           /* inc cs:[629h] */
         "F9 CA0200");                          /* stc; retf 2 */
    patch(patch_mouse);
    code("5589E5 50"                            /* push bp; mov bp, sp; push ax */
         "8B460C 2EA33206"                      /* status -> 632h */
         "8B460A 2EA33406"                      /* x -> 634h */
         "8B4608 2EA33606"                      /* y -> 636h */
         "2EFF063806"                           /* calls -> 638h */
         "58 5D CB");
    sector[510] = 0x55, sector[511] = 0xAA;
}

static struct emu *start(void)
{
    const char *argv[] = { "-display", "none", "-monitor", "none", "-serial", "null", "-nic", "none", "-m", "16M", "-icount", "shift=3,sleep=off", "-drive", "file=build/tests/fw_stubs.img,format=raw" };
    static char why[600];
    struct emu *e = emu_new(NULL);
    FILE *f = fopen("build/tests/fw_stubs.img", "wb");
    build();
    if (!f)
        return NULL;
    fwrite(sector, 1, 512, f);
    fseek(f, (1 << 20) - 1, SEEK_SET);
    fwrite("\0", 1, 1, f);
    fclose(f);
    if (emu_configure(e, (int)(sizeof argv / sizeof *argv), argv, why, sizeof why)) {
        printf("%s\n", why);
        return NULL;
    }
    return e;
}

static uint32_t get(struct emu *e, uint32_t gpa, unsigned size)
{
    uint8_t b[4] = { 0, 0, 0, 0 };
    emu_read_memory(e, gpa, b, size);
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Runs in steps until the word at gpa is nonzero, or too long. */
static int until(struct emu *e, uint32_t gpa, int steps)
{
    struct emu_limits limits = { -1, 2000000, 0 };
    struct emu_result result;
    while (steps-- > 0 && !get(e, gpa, 2))
        emu_run(e, &limits, &result);
    return get(e, gpa, 2) != 0;
}

TEST(stubs_keep_registers_and_call_the_hooks_of_programs)
{
    struct emu *e = start();
    CHECK(e != NULL);
    CHECK(until(e, 0x620, 200)); /* IRQ 0 reaches INT 08h, the count at 046Ch moves */
    CHECK_EQ(get(e, 0x600, 4), 0x2222027F); /* INT 12h: AX = 639, upper half kept */
    CHECK_EQ(get(e, 0x604, 4), 0x44443333);
    CHECK_EQ(get(e, 0x608, 4), 0x66665555);
    CHECK_EQ(get(e, 0x60C, 4), 0x88887777);
    CHECK_EQ(get(e, 0x610, 4), 0xAAAA9999);
    CHECK_EQ(get(e, 0x614, 4), 0xCCCCBBBB);
    CHECK_EQ(get(e, 0x618, 4), 0xEEEEDDDD);
    CHECK_EQ(get(e, 0x61C, 2), 0x7C00);
    CHECK(get(e, 0x626, 2) > 0); /* INT 1Ch */
    CHECK(!until(e, 0x622, 20)); /* no key: it waits */
    emu_send_key(e, "a", 1);
    emu_send_key(e, "a", 0);
    CHECK(until(e, 0x622, 200));
    CHECK_EQ(get(e, 0x622, 2), 0x1E61);
    CHECK(get(e, 0x629, 1) >= 1); /* INT 15h/4Fh saw the scan code */
    CHECK(get(e, 0x628, 1) == 0x1E || get(e, 0x628, 1) == 0x9E);
    CHECK(until(e, 0x624, 200)); /* INT 15h/86h came back */
    CHECK(until(e, 0x62A, 200));
    CHECK_EQ(get(e, 0x630, 1), 3); /* mouse: reset, handler and enable succeeded */
    emu_send_mouse(e, 5, 3, 0, 1);
    CHECK(until(e, 0x638, 200));
    CHECK_EQ(get(e, 0x632, 1) & 1, 1); /* left button */
    CHECK_EQ(get(e, 0x634, 1), 5);
    emu_destroy(e);
}

TEST_MAIN(TEST_CASE(stubs_keep_registers_and_call_the_hooks_of_programs))
