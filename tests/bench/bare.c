/* tests/bench/bare.c - the benchmark as a guest without an operating system.
 *
 * Models     16550 at 3F8h, 8254 channel 2 behind port 61h (PIIX3 290550 §3.4), QEMU's isa-debug-exit at F4h and PIIX4's PM1 control
 *            register at 604h.
 * Contract   start.S calls bench_main() with the multiboot information. Options in the command line: pages=4k (the first 64 MiB by
 *            4 KiB pages), only=NAME, quick (a tenth of the rounds), loop=N. Output on COM1, a line a kernel:
 *            `kernel NAME CHECKSUM MICROSECONDS`, then `end`. Exit: isa-debug-exit with 0 (status 1), else soft off.
 * Theory     The TSC is the clock. Its rate is measured once against 50 ms of PIT channel 2, whose rate is a constant of the PC.
 */
#include "bench.h"

enum { PIT_HZ = 1193182, CALIBRATE_TICKS = 59659 /* 50 ms */, SMALL_PAGE_TABLES = 32 };

extern uint64_t page_pd[512];
static uint64_t page_tables[SMALL_PAGE_TABLES][512] __attribute__((aligned(4096)));

static void outb(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static void outw(uint16_t port, uint16_t v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
static uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static uint64_t read_tsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

/* What the compiler may call for. */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n)
{
    void *r = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return r;
}
void *memset(void *to, int c, size_t n)
{
    void *r = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
    return r;
}

static void put_char(char c)
{
    int spins = 1000000;
    while (!(inb(0x3fd) & 0x20) && --spins)
        ;
    outb(0x3f8, (uint8_t)c);
}

static void put_text(const char *s)
{
    while (*s)
        put_char(*s++);
}

static void put_number(uint64_t n, unsigned base)
{
    char digits[20];
    int k = 0;
    do
        digits[k++] = "0123456789abcdef"[n % base];
    while ((n /= base) != 0);
    while (base == 16 && k < 16)
        digits[k++] = '0';
    while (k)
        put_char(digits[--k]);
}

static void leave(uint8_t code)
{
    while (!(inb(0x3fd) & 0x40))
        ;
    outb(0xf4, code);
    outw(0x604, 0x2000);            /* SLP_EN with type 0: S5 on this board */
    for (;;)
        __asm__ volatile("cli; hlt");
}

void bench_exception(uint64_t vector, uint64_t a, uint64_t b);
void bench_exception(uint64_t vector, uint64_t a, uint64_t b)
{
    put_text("exception ");
    put_number(vector, 10);
    put_text(" at ");
    put_number(a, 16);
    put_char(' ');
    put_number(b, 16);
    put_char('\n');
    leave(1);
}

/* TSC ticks in 50 ms, by channel 2 in mode 0: OUT rises when the count has run out. */
static uint64_t calibrate(void)
{
    uint64_t from;
    uint32_t spins = 0;
    outb(0x61, (uint8_t)((inb(0x61) & 0xfc) | 1));      /* gate on, speaker off */
    outb(0x43, 0xb0);
    outb(0x42, CALIBRATE_TICKS & 255);
    outb(0x42, CALIBRATE_TICKS >> 8);
    from = read_tsc();
    while (!(inb(0x61) & 0x20))
        if (++spins == 100000000u) {
            put_text("PIT channel 2 does not run\n");
            leave(1);
        }
    return read_tsc() - from;
}

/* NULL, or what follows word in text. */
static const char *find_word(const char *text, const char *word)
{
    for (; *text; text++) {
        const char *t = text, *w = word;
        while (*w && *t == *w)
            t++, w++;
        if (!*w)
            return t;
    }
    return NULL;
}

static int same_name(const char *name, const char *word)
{
    while (*name && *name == *word)
        name++, word++;
    return *name == 0 && (*word == 0 || *word == ' ');
}

static void use_small_pages(void)
{
    uint64_t i;
    for (i = 0; i < SMALL_PAGE_TABLES * 512u; i++)
        page_tables[i / 512][i % 512] = i * 4096 | 3;
    for (i = 0; i < SMALL_PAGE_TABLES; i++)
        page_pd[i] = (uint64_t)(uintptr_t)page_tables[i] | 3;
    __asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
}

void bench_main(uintptr_t multiboot);
void bench_main(uintptr_t multiboot)
{
    const volatile uint32_t *info = (const volatile uint32_t *)multiboot;
    const char *options = info[0] & 4 ? (const char *)(uintptr_t)info[4] : "", *only, *word;
    const struct bench_kernel *k;
    uint64_t ticks_50ms;
    unsigned loops = 1;

    outb(0x3f9, 0);
    outb(0x3fb, 0x80);
    outb(0x3f8, 1);
    outb(0x3f9, 0);
    outb(0x3fb, 3);
    outb(0x3fa, 7);
    outb(0x3fc, 3);
    if (find_word(options, "pages=4k"))
        use_small_pages();
    only = find_word(options, "only=");
    if ((word = find_word(options, "loop=")) != NULL && *word >= '1' && *word <= '9')
        loops = (unsigned)(*word - '0');
    ticks_50ms = calibrate();
    put_text("begin\n");
    while (loops--)
        for (k = bench_kernels; k->name; k++) {
            unsigned rounds = find_word(options, "quick") ? (k->rounds + 9) / 10 : k->rounds;
            uint64_t from, sum;
            if (only && !same_name(k->name, only))
                continue;
            from = read_tsc();
            sum = k->run(rounds);
            from = read_tsc() - from;
            put_text("kernel ");
            put_text(k->name);
            put_char(' ');
            put_number(sum, 16);
            put_char(' ');
            put_number(from * 50000 / ticks_50ms, 10);
            put_char('\n');
        }
    put_text("end\n");
    leave(0);
}
