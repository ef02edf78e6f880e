/* api_example.c - a program with two machines in it: own disk by callback, own serial line by callback. Test of emu.h from C.
 *
 * The disk holds a boot sector of ours: it writes its drive's second sector to the first serial port, byte by byte, with INT 14h-free port
 * writes (16550A data sheet: THR at 3F8h), and halts. Each machine must send what its own disk holds.
 */
#include "../emu.h"
#include "test.h"
#ifndef _WIN32
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#endif

struct my_disk {
    uint8_t bytes[64 * 512];
};

struct my_console {
    char text[512];
    size_t size;
};

static int disk_read(void *opaque, uint64_t offset, void *buffer, size_t bytes)
{
    struct my_disk *d = (struct my_disk *)opaque;
    if (offset > sizeof d->bytes || bytes > sizeof d->bytes - offset)
        return EMU_EIO;
    memcpy(buffer, d->bytes + offset, bytes);
    return 0;
}

static int disk_write(void *opaque, uint64_t offset, const void *buffer, size_t bytes)
{
    struct my_disk *d = (struct my_disk *)opaque;
    if (offset > sizeof d->bytes || bytes > sizeof d->bytes - offset)
        return EMU_EIO;
    memcpy(d->bytes + offset, buffer, bytes);
    return 0;
}

static void console_output(void *opaque, const void *bytes, size_t count)
{
    struct my_console *c = (struct my_console *)opaque;
    while (count-- && c->size + 1 < sizeof c->text)
        c->text[c->size++] = *(const char *)bytes, bytes = (const char *)bytes + 1;
    c->text[c->size] = 0;
}

/* SDM vol. 2 encodings; INT 13h AH=02h of the IBM PC BIOS. */
static const uint8_t boot_sector[] = {
    0x31, 0xC0,             /* xor ax,ax */
    0x8E, 0xD8, 0x8E, 0xC0, /* mov ds,ax; mov es,ax */
    0xB8, 0x01, 0x02,       /* mov ax,0201h: read one sector */
    0xB9, 0x02, 0x00,       /* mov cx,0002h: cylinder 0, sector 2 */
    0xB6, 0x00,             /* mov dh,0 */
    0xBB, 0x00, 0x7E,       /* mov bx,7E00h */
    0xCD, 0x13,             /* int 13h */
    0xBE, 0x00, 0x7E,       /* mov si,7E00h */
    0xBA, 0xF8, 0x03,       /* mov dx,3F8h */
    0xAC,                   /* next: lodsb */
    0x84, 0xC0,             /* test al,al */
    0x74, 0x03,             /* jz done */
    0xEE,                   /* out dx,al */
    0xEB, 0xF8,             /* jmp next */
    0xFA, 0xF4, 0xEB, 0xFC  /* done: cli; hlt; jmp done */
};

static struct emu *machine_by(struct my_disk *disk, struct my_console *console, const char *text, int icount)
{
    static const char *const options[] = { "-m", "16M", "-serial", "embed:console", "-drive", "file=embed:disk,format=raw,if=ide", "-net", "none",
                                           "-icount", "shift=3,sleep=off" };
    struct emu_disk_ops ops;
    char error[300] = "";
    struct emu *m = emu_new(NULL);
    memset(disk, 0, sizeof *disk);
    memset(console, 0, sizeof *console);
    memset(&ops, 0, sizeof ops);
    memcpy(disk->bytes, boot_sector, sizeof boot_sector);
    disk->bytes[510] = 0x55;
    disk->bytes[511] = 0xAA;
    memcpy(disk->bytes + 512, text, strlen(text));
    ops.bytes = sizeof disk->bytes;
    ops.read = disk_read;
    ops.write = disk_write;
    if (!m)
        return NULL;
    if (emu_provide_disk(m, "disk", &ops, disk) || emu_provide_serial(m, "console", console_output, console) ||
        emu_configure(m, (int)(sizeof options / sizeof options[0]) - (icount ? 0 : 2), options, error, sizeof error)) {
        printf("%s\n", error);
        emu_destroy(m);
        return NULL;
    }
    return m;
}
static struct emu *machine(struct my_disk *disk, struct my_console *console, const char *text) { return machine_by(disk, console, text, 0); }

TEST(two_machines_run_side_by_side_from_their_own_disks)
{
    static struct my_disk disks[2];
    static struct my_console consoles[2];
    struct emu *m[2];
    struct emu_limits limits = { 20000000, -1, 0 }; /* 20 ms of host time at once, without sleeping */
    struct emu_result result;
    int i, round;
    m[0] = machine(&disks[0], &consoles[0], "first machine");
    m[1] = machine(&disks[1], &consoles[1], "second machine");
    CHECK(m[0] && m[1]);
    for (round = 0; round < 300 && (!strstr(consoles[0].text, "first machine") || !strstr(consoles[1].text, "second machine")); round++)
        for (i = 0; i < 2; i++)
            CHECK_EQ(emu_run(m[i], &limits, &result), 0);
    CHECK(strstr(consoles[0].text, "first machine") != NULL);
    CHECK(strstr(consoles[1].text, "second machine") != NULL);
    CHECK(strstr(consoles[0].text, "second") == NULL);
    emu_destroy(m[0]);
    emu_destroy(m[1]);
}

TEST(memory_and_registers_can_be_written_and_read_back)
{
    static struct my_disk disk;
    static struct my_console console;
    struct emu *m = machine(&disk, &console, "x");
    static const char pattern[] = "03456789";
    char back[sizeof pattern] = "";
    uint64_t value = 0;
    CHECK(m != NULL);
    CHECK_EQ(emu_write_memory(m, 0x5000, pattern, sizeof pattern), 0);
    CHECK_EQ(emu_read_memory(m, 0x5000, back, sizeof back), 0);
    CHECK(!memcmp(back, pattern, sizeof pattern));
    CHECK_EQ(emu_write_register(m, 0, "rbx", 0x1122334455667788), 0);
    CHECK_EQ(emu_read_register(m, 0, "rbx", &value), 0);
    CHECK_EQ(value, 0x1122334455667788);
    CHECK_EQ(emu_read_register(m, 0, "cs", &value), 0);
    CHECK_EQ(value, 0xF000); /* SDM vol. 3 table 9-1: CS selector after reset */
    CHECK_EQ(emu_read_register(m, 0, "nonsense", &value), EMU_ENOENT);
    CHECK_EQ(emu_read_register(m, 1, "rax", &value), EMU_EINVAL);
    emu_destroy(m);
}

/* Counts are exact whatever the clock: three instructions a round, from the first byte of the loop. */
static void counts(int icount, int *test_failed)
{
    static const uint8_t code[] = {
        0xFA, 0x31, 0xDB,       /* cli; xor bx,bx */
        0xBA, 0xF8, 0x03,       /* mov dx,3F8h */
        0xB0, 'r', 0xEE,        /* mov al,'r'; out dx,al */
        0x43,                   /* loop: inc bx */
        0x01, 0xD8,             /* add ax,bx */
        0xEB, 0xFB              /* jmp loop */
    };
    static const int64_t ask[] = { 1, 2, 1, 3, 64, 65, 66, 67, 68, 345, 999, 1000, 1001, 1023, 1024, 1025, 1090, 5000, 16383, 16450, 100001, 3000000 };
    static struct my_disk disk;
    static struct my_console console;
    static const char *const options[] = { "-m", "16M", "-serial", "embed:console", "-drive", "file=embed:disk,format=raw,if=ide", "-net", "none",
                                           "-icount", "shift=3,sleep=off" };
    struct emu_disk_ops ops;
    struct emu_limits limits = { 20000000, -1, 0 };
    struct emu_result result;
    struct emu *m = emu_new(NULL);
    uint64_t before, rounds, bx, rip, start;
    unsigned i;
    CHECK(m != NULL);
    memset(&disk, 0, sizeof disk);
    memset(&console, 0, sizeof console);
    memset(&ops, 0, sizeof ops);
    memcpy(disk.bytes, code, sizeof code);
    disk.bytes[510] = 0x55;
    disk.bytes[511] = 0xAA;
    ops.bytes = sizeof disk.bytes;
    ops.read = disk_read;
    ops.write = disk_write;
    CHECK_EQ(emu_provide_disk(m, "disk", &ops, &disk), 0);
    CHECK_EQ(emu_provide_serial(m, "console", console_output, &console), 0);
    CHECK_EQ(emu_configure(m, (int)(sizeof options / sizeof options[0]) - (icount ? 0 : 2), options, NULL, 0), 0);
    for (i = 0; i < 1000 && !strchr(console.text, 'r'); i++) {
        CHECK_EQ(emu_run(m, &limits, &result), 0);
        if (result.reason == EMU_REASON_IDLE) {
            limits.may_block = 1;
            CHECK_EQ(emu_run(m, &limits, &result), 0);
            limits.may_block = 0;
        }
    }
    CHECK(strchr(console.text, 'r') != NULL);
    limits.host_ns = -1;
    start = result.instructions;
    CHECK_EQ(emu_read_register(m, 0, "rbx", &bx), 0);
    CHECK_EQ(emu_read_register(m, 0, "rip", &rip), 0);
    rounds = bx * 3 + (rip == 0x7C0A ? UINT64_MAX - 1 : rip == 0x7C0C ? UINT64_MAX : 0); /* bx has counted the round begun */
    for (i = 0; i < sizeof ask / sizeof ask[0]; i++) {
        uint64_t done;
        before = result.instructions;
        limits.instructions = ask[i];
        CHECK_EQ(emu_run(m, &limits, &result), 0);
        CHECK_EQ(result.reason, EMU_REASON_INSNS);
        CHECK_EQ(result.instructions - before, (uint64_t)ask[i]);
        done = rounds + (result.instructions - start);
        CHECK_EQ(emu_read_register(m, 0, "rip", &rip), 0);
        CHECK_EQ(emu_read_register(m, 0, "rbx", &bx), 0);
        CHECK_EQ(rip, done % 3 == 0 ? 0x7C09 : done % 3 == 1 ? 0x7C0A : 0x7C0C);
        CHECK_EQ((uint16_t)bx, (uint16_t)((done + 2) / 3));
    }
    emu_destroy(m);
}

TEST(a_limit_of_instructions_is_kept_exactly_by_the_host_clock) { counts(0, test_failed); }
TEST(a_limit_of_instructions_is_kept_exactly_by_icount) { counts(1, test_failed); }

/* From power-on. A guest that sleeps is the only reason to come back early: the boot sector halts for good before the 345th instruction. */
TEST(a_limit_of_instructions_holds_from_power_on)
{
    static const int64_t ask[] = { 1, 2, 5, 20, 64, 65, 66, 67, 68, 90 };
    static struct my_disk disk;
    static struct my_console console;
    unsigned i;
    for (i = 0; i < sizeof ask / sizeof ask[0]; i++) {
        struct emu *m = machine(&disk, &console, "x");
        struct emu_limits limits = { -1, 0, 1 };
        struct emu_result result;
        CHECK(m != NULL);
        limits.instructions = ask[i];
        CHECK_EQ(emu_run(m, &limits, &result), 0);
        CHECK_EQ(result.reason, EMU_REASON_INSNS);
        CHECK_EQ(result.instructions, (uint64_t)ask[i]);
        limits.instructions = 1000;
        limits.may_block = 0;
        CHECK_EQ(emu_run(m, &limits, &result), 0);
        CHECK_EQ(result.reason, EMU_REASON_IDLE);
        CHECK(result.instructions < 345);
        emu_destroy(m);
    }
}

/* Where time is counted in instructions and idle time costs none of the host's, a guest that halts for good, interrupts off, makes time pass from one
 * timer of a device to the next. The call that must not block comes back all the same, whatever its limits, and so does the next. */
TEST(a_guest_halted_for_good_gives_the_call_back)
{
    static struct my_disk disk;
    static struct my_console console;
    struct emu *m = machine_by(&disk, &console, "halts", 1);
    struct emu_limits limits = { -1, 100000000, 0 };
    struct emu_result result;
    uint64_t instructions;
    int64_t now_ns;
    int i;
    CHECK(m != NULL);
    for (i = 0; i < 10000 && !strstr(console.text, "halts"); i++)
        CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK(strstr(console.text, "halts") != NULL);
    CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK_EQ(result.reason, EMU_REASON_IDLE);
    instructions = result.instructions;
    now_ns = result.now_ns;
    limits.instructions = -1;
    CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK_EQ(result.reason, EMU_REASON_IDLE);
    CHECK_EQ(result.instructions, instructions);
    CHECK(result.now_ns >= now_ns);
    emu_destroy(m);
}

TEST(wrong_options_give_one_line)
{
    static const char *const options[] = { "-m", "0" };
    char error[300] = "";
    struct emu *m = emu_new(NULL);
    CHECK(m != NULL);
    CHECK_EQ(emu_configure(m, 2, options, error, sizeof error), EMU_EINVAL);
    CHECK(strstr(error, "-m 0") != NULL);
    CHECK(strchr(error, '\n') == NULL);
    emu_destroy(m);
}

/* ---- frames, hooks, stop ---- */

struct my_wire {
    uint8_t frame[2000];
    size_t size;
    unsigned frames;
};

static void wire_frame(void *opaque, const void *bytes, size_t count)
{
    struct my_wire *w = (struct my_wire *)opaque;
    w->frames++;
    w->size = count < sizeof w->frame ? count : sizeof w->frame;
    memcpy(w->frame, bytes, w->size);
}

/* Reads the drive's second sector to 7E00h and sends its first 60 bytes through the RTL8139 in slot 3; receives to 9000h. Registers: RTL8139C(L) data
 * sheet §6 (CR 37h, TSAD0 20h, TSD0 10h, RBSTART 30h, RCR 44h). PCI configuration mechanism 1: PCI Local Bus 2.2 §3.2.2.3.2. */
static const uint8_t network_sector[] = {
    0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0,                                                   /* xor ax,ax; mov ds,ax; mov es,ax */
    0xB8, 0x01, 0x02, 0xB9, 0x02, 0x00, 0xB6, 0x00, 0xBB, 0x00, 0x7E, 0xCD, 0x13,         /* int 13h, AX=0201h CX=0002h DH=0 BX=7E00h */
    0x66, 0xB8, 0x04, 0x18, 0x00, 0x80, 0xBA, 0xF8, 0x0C, 0x66, 0xEF,                     /* out 0CF8h: slot 3, command */
    0xBA, 0xFC, 0x0C, 0xB8, 0x07, 0x00, 0xEF,                                             /* out 0CFCh: I/O, memory, bus master */
    0x66, 0xB8, 0x10, 0x18, 0x00, 0x80, 0xBA, 0xF8, 0x0C, 0x66, 0xEF, 0xBA, 0xFC, 0x0C,   /* BAR 0 */
    0x66, 0xED, 0x24, 0xFC, 0x89, 0xC3,                                                   /* in eax,dx; and al,0FCh; mov bx,ax */
    0x8D, 0x57, 0x37, 0xB0, 0x0C, 0xEE,                                                   /* CR = RE | TE */
    0x8D, 0x57, 0x30, 0x66, 0xB8, 0x00, 0x90, 0x00, 0x00, 0x66, 0xEF,                     /* RBSTART = 9000h */
    0x8D, 0x57, 0x44, 0x66, 0xB8, 0x0F, 0x00, 0x00, 0x00, 0x66, 0xEF,                     /* RCR = every address */
    0x8D, 0x57, 0x20, 0x66, 0xB8, 0x00, 0x7E, 0x00, 0x00, 0x66, 0xEF,                     /* TSAD0 = 7E00h */
    0x8D, 0x57, 0x10, 0x66, 0xB8, 0x3C, 0x00, 0x00, 0x00, 0x66, 0xEF,                     /* TSD0 = 60 */
    0xFB, 0xF4, 0xEB, 0xFD                                                                /* sti; sleep: hlt; jmp sleep */
};

TEST(frames_go_both_ways_by_callback)
{
    static const char *const options[] = { "-m", "16M", "-drive", "file=embed:disk,format=raw,if=ide", "-netdev", "embed,id=n0,name=wire", "-device", "rtl8139,netdev=n0,addr=3" };
    static struct my_disk disk;
    static struct my_wire wire;
    struct emu_limits limits = { 20000000, -1, 1 };
    struct emu_disk_ops ops;
    char error[300] = "";
    uint8_t frame[100], back[104];
    struct emu *m = emu_new(NULL);
    int i, taken = 0;
    memset(&ops, 0, sizeof ops);
    ops.bytes = sizeof disk.bytes;
    ops.read = disk_read;
    ops.write = disk_write;
    memcpy(disk.bytes, network_sector, sizeof network_sector);
    disk.bytes[510] = 0x55;
    disk.bytes[511] = 0xAA;
    for (i = 0; i < 60; i++)
        disk.bytes[512 + i] = (uint8_t)(i * 7);
    for (i = 0; i < 100; i++)
        frame[i] = (uint8_t)(255 - i);
    CHECK(m != NULL);
    CHECK_EQ(emu_provide_disk(m, "disk", &ops, &disk), 0);
    CHECK_EQ(emu_provide_net(m, "wire", wire_frame, &wire), 0);
    if (emu_configure(m, (int)(sizeof options / sizeof options[0]), options, error, sizeof error))
        printf("%s\n", error);
    CHECK_EQ(emu_net_input(m, "no wire", frame, sizeof frame), EMU_ENOENT);
    for (i = 0; i < 300 && !wire.frames; i++)
        CHECK_EQ(emu_run(m, &limits, NULL), 0);
    CHECK_EQ(wire.frames, 1);
    CHECK_EQ(wire.size, 60);
    CHECK(!memcmp(wire.frame, disk.bytes + 512, 60));
    for (i = 0; i < 50 && (taken = emu_net_input(m, "wire", frame, sizeof frame)) == 0; i++)
        CHECK_EQ(emu_run(m, &limits, NULL), 0);
    CHECK_EQ(taken, 1);
    CHECK_EQ(emu_run(m, &limits, NULL), 0);
    CHECK_EQ(emu_read_memory(m, 0x9000, back, sizeof back), 0);
    CHECK(back[0] & 1);                              /* §5.5: receive status, ROK */
    CHECK_EQ(back[2] | back[3] << 8, sizeof frame + 4); /* length with CRC */
    CHECK(!memcmp(back + 4, frame, sizeof frame));
    emu_destroy(m);
}

struct my_hooks {
    long blocks; /* given out and not taken back */
    int lines;
    struct emu *machine; /* to be stopped by the next output */
    int stops;
};

static void *hook_allocate(void *opaque, void *old, size_t bytes)
{
    struct my_hooks *h = (struct my_hooks *)opaque;
    if (!bytes) {
        h->blocks -= old != NULL;
        free(old);
        return NULL;
    }
    h->blocks += old == NULL;
    return realloc(old, bytes);
}

static void hook_log(void *opaque, const char *line)
{
    ((struct my_hooks *)opaque)->lines += strchr(line, '\n') == NULL;
}

static void stopping_output(void *opaque, const void *bytes, size_t count)
{
    struct my_hooks *h = (struct my_hooks *)opaque;
    (void)bytes;
    h->stops += (int)count;
    emu_stop(h->machine);
}

TEST(stop_from_a_callback_and_every_block_is_given_back)
{
    static const char *const options[] = { "-m", "16M", "-serial", "embed:console", "-drive", "file=embed:disk,format=raw,if=ide", "-net", "none", "-enable-kvm" };
    static struct my_disk disk;
    static struct my_hooks hooks;
    struct emu_hooks h;
    struct emu_disk_ops ops;
    struct emu_result result;
    char error[300] = "";
    struct emu *m;
    memset(&h, 0, sizeof h);
    h.opaque = &hooks;
    h.log = hook_log;
    h.allocate = hook_allocate;
    memset(&ops, 0, sizeof ops);
    ops.bytes = sizeof disk.bytes;
    ops.read = disk_read;
    ops.write = disk_write;
    memcpy(disk.bytes, boot_sector, sizeof boot_sector);
    disk.bytes[510] = 0x55;
    disk.bytes[511] = 0xAA;
    memcpy(disk.bytes + 512, "stop", 5);
    m = emu_new(&h);
    CHECK(m != NULL);
    hooks.machine = m;
    CHECK_EQ(emu_provide_disk(m, "disk", &ops, &disk), 0);
    CHECK_EQ(emu_provide_serial(m, "console", stopping_output, &hooks), 0);
    CHECK_EQ(emu_configure(m, (int)(sizeof options / sizeof options[0]), options, error, sizeof error), 0);
    CHECK_EQ(hooks.lines, 1); /* that there is no KVM */
    CHECK_EQ(emu_run(m, NULL, &result), 0); /* no limit: only the callback ends it */
    CHECK_EQ(result.reason, EMU_REASON_STOPPED);
    CHECK(hooks.stops >= 1);
    emu_destroy(m);
    CHECK_EQ(hooks.blocks, 0);
}

/* The guest sleeps with interrupts on, so the firmware's timer ticks are the deadlines. */
TEST(idle_run_never_blocks_and_says_when_to_come_back)
{
    static struct my_disk disk;
    static struct my_console console;
    struct emu_limits limits = { -1, -1, 0 };
    struct emu_limits wait_100_ms = { 100000000, -1, 1 };
    struct emu_result result;
    struct emu *m = machine(&disk, &console, "idle");
    int i;
    CHECK(m != NULL);
    for (i = 0; i < 300 && !strstr(console.text, "idle"); i++)
        CHECK_EQ(emu_run(m, &wait_100_ms, &result), 0);
    CHECK_EQ(emu_run(m, &wait_100_ms, &result), 0);
    CHECK_EQ(result.reason, EMU_REASON_TIME);
    CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK_EQ(result.reason, EMU_REASON_IDLE);
    CHECK(result.next_deadline_ns >= 0);
    emu_destroy(m);
}

#ifndef _WIN32
/* The descriptors that an idle machine waits for; 0: it is not idle, or waits for none. */
static nfds_t waits_of(struct emu *m, struct pollfd p[16])
{
    struct emu_limits limits = { -1, -1, 0 };
    struct emu_result result;
    size_t i;
    if (emu_run(m, &limits, &result) || (result.reason != EMU_REASON_IDLE && result.reason != EMU_REASON_PAUSED) || !result.wait_count || result.wait_count > 16)
        return 0;
    for (i = 0; i < result.wait_count; i++) {
        p[i].fd = (int)result.waits[i].fd;
        p[i].events = (short)((result.waits[i].events & EMU_WANT_READ ? POLLIN : 0) | (result.waits[i].events & EMU_WANT_WRITE ? POLLOUT : 0));
    }
    return (nfds_t)result.wait_count;
}
/* A line of the machine's that a client comes to, and what the client says: each makes a descriptor ready, which the next call takes care of. */
TEST(an_idle_machine_hands_out_the_descriptors_it_waits_for)
{
    static const char *const options[] = { "-m", "16M", "-net", "none", "-display", "none", "-serial", "null", "-monitor", "unix:api_example.sock,server,nowait", "-S" };
    struct emu_limits settle = { 50000000, -1, 1 };
    struct sockaddr_un a;
    struct emu *m = emu_new(NULL);
    char error[300] = "", answer[400] = "";
    struct pollfd p[16];
    nfds_t count;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), i, n, size = 0;
    CHECK(m != NULL && fd >= 0);
    CHECK_EQ(emu_configure(m, (int)(sizeof options / sizeof options[0]), options, error, sizeof error), 0);
    CHECK_EQ(emu_run(m, &settle, NULL), 0);
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    strcpy(a.sun_path, "api_example.sock");
    count = waits_of(m, p);
    CHECK(count > 0);
    CHECK_EQ(poll(p, count, 0), 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    CHECK_EQ(poll(p, count, 1000), 1);
    CHECK_EQ(emu_run(m, &settle, NULL), 0);
    count = waits_of(m, p);
    CHECK(count > 0);
    CHECK_EQ(poll(p, count, 0), 0);
    CHECK_EQ(write(fd, "info status\n", 12), 12);
    CHECK_EQ(poll(p, count, 1000), 1);
    for (i = 0; i < 100 && !strstr(answer, "VM status"); i++) {
        CHECK_EQ(emu_run(m, &settle, NULL), 0);
        n = (int)recv(fd, answer + size, sizeof answer - 1 - (size_t)size, MSG_DONTWAIT);
        size += n > 0 ? n : 0;
        answer[size] = 0;
    }
    CHECK(strstr(answer, "VM status: paused") != NULL);
    close(fd);
    emu_destroy(m);
}
#else
TEST(an_idle_machine_hands_out_the_descriptors_it_waits_for) { SKIP("a client by POSIX sockets"); }
#endif

/* Answers of the smallest calls; EMU_VERSION is made of the three numbers. */
TEST(versions_errors_and_cpus_are_told)
{
    static const char *const options[] = { "-m", "16M", "-smp", "3", "-net", "none" };
    char version[40];
    int error;
    struct emu *m = emu_new(NULL);
    CHECK(m != NULL);
    sprintf(version, "%d.%d.%d", EMU_VERSION_MAJOR, EMU_VERSION_MINOR, EMU_VERSION_PATCH);
    CHECK(!strcmp(version, EMU_VERSION));
    for (error = EMU_OK; error >= EMU_EADDRINUSE; error--) {
        CHECK(emu_strerror(error) != NULL && emu_strerror(error)[0]);
        CHECK(error == EMU_EADDRINUSE || strcmp(emu_strerror(error), emu_strerror(error - 1)));
    }
    CHECK(emu_strerror(-1000) != NULL);
    CHECK_EQ(emu_run(m, NULL, NULL), EMU_EINVAL); /* never configured */
    CHECK_EQ(emu_pause(m), EMU_EINVAL);
    CHECK_EQ(emu_configure(m, (int)(sizeof options / sizeof options[0]), options, NULL, 0), 0);
    CHECK_EQ(emu_cpu_count(m), 3);
    emu_destroy(m);
    emu_destroy(NULL);
}

/* Runs until the line holds text. */
static int runs_until(struct emu *m, const struct my_console *console, const char *text)
{
    struct emu_limits limits = { 20000000, -1, 1 };
    int i;
    for (i = 0; i < 300 && !strstr(console->text, text); i++)
        emu_run(m, &limits, NULL);
    return strstr(console->text, text) != NULL;
}

/* pause: no instruction more; resume: on it goes; reset: the boot sector runs a second time; the power button raises PWRBTN_STS, bit 8 of the PM1 status
 * register (ACPI 6 table 4.11), which the power management function keeps at port 600h. */
TEST(pause_resume_reset_and_power_button)
{
    static struct my_disk disk;
    static struct my_console console;
    struct emu_limits limits = { 20000000, -1, 0 };
    struct emu_result result;
    uint64_t instructions, changes;
    char reply[100] = "";
    struct emu *m = machine(&disk, &console, "again");
    CHECK(m != NULL);
    changes = emu_screen_changes(m);
    CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK_EQ(emu_pause(m), 0);
    CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK_EQ(result.reason, EMU_REASON_PAUSED);
    instructions = result.instructions;
    CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK_EQ(result.reason, EMU_REASON_PAUSED);
    CHECK_EQ(result.instructions, instructions);
    CHECK_EQ(emu_resume(m), 0);
    CHECK(runs_until(m, &console, "again"));
    CHECK(emu_screen_changes(m) != changes); /* the firmware has written its lines */
    changes = emu_screen_changes(m);
    CHECK_EQ(emu_screen_changes(m), changes);
    emu_reset(m);
    CHECK(runs_until(m, &console, "againagain"));
    emu_power_button(m);
    CHECK_EQ(emu_run(m, &limits, &result), 0);
    CHECK_EQ(emu_monitor(m, "i /h 0x600", reply, sizeof reply), 0);
    CHECK_EQ(strtoul(strchr(reply, '=') ? strchr(reply, '=') + 1 : "0", NULL, 0) & 0x100, 0x100);
    emu_destroy(m);
}

/* 32-bit paging (SDM vol. 3 section 4.3) with one page table, set up by the boot sector: linear 400000h is physical 9000h, 401000h is nowhere. */
TEST(virtual_addresses_go_through_the_guests_tables)
{
    static const uint8_t code[] = {
        0xFA, 0x31, 0xC0, 0x8E, 0xD8,                                                 /* cli; xor ax,ax; mov ds,ax */
        0x66, 0xC7, 0x06, 0x00, 0x60, 0x03, 0x50, 0x00, 0x00,                         /* mov dword [6000h],5003h: directory entry 0 */
        0x66, 0xC7, 0x06, 0x04, 0x60, 0x03, 0x80, 0x00, 0x00,                         /* mov dword [6004h],8003h: directory entry 1 */
        0x66, 0xC7, 0x06, 0x1C, 0x50, 0x03, 0x70, 0x00, 0x00,                         /* mov dword [501Ch],7003h: page 7 is itself */
        0x66, 0xC7, 0x06, 0x00, 0x80, 0x03, 0x90, 0x00, 0x00,                         /* mov dword [8000h],9003h */
        0x66, 0xB8, 0x00, 0x60, 0x00, 0x00, 0x0F, 0x22, 0xD8,                         /* mov eax,6000h; mov cr3,eax */
        0x0F, 0x20, 0xC0, 0x66, 0x0D, 0x01, 0x00, 0x00, 0x80, 0x0F, 0x22, 0xC0,       /* mov eax,cr0; or eax,80000001h; mov cr0,eax */
        0xBA, 0xF8, 0x03, 0xB0, 'v', 0xEE, 0xF4, 0xEB, 0xFD                           /* mov dx,3F8h; mov al,'v'; out dx,al; hlt: hlt; jmp hlt */
    };
    static struct my_disk disk;
    static struct my_console console;
    static char reply[4000];
    struct emu *m = machine(&disk, &console, "");
    uint8_t bytes[4] = { 0 };
    uint64_t value = 0;
    CHECK(m != NULL);
    memcpy(disk.bytes, code, sizeof code);
    CHECK(runs_until(m, &console, "v"));
    CHECK_EQ(emu_read_register(m, 0, "cr3", &value), 0);
    CHECK_EQ(value, 0x6000);
    CHECK_EQ(emu_write_memory(m, 0x9010, "abcd", 4), 0);
    CHECK_EQ(emu_read_virtual(m, 0, 0x400010, bytes, 4), 0);
    CHECK(!memcmp(bytes, "abcd", 4));
    CHECK_EQ(emu_write_virtual(m, 0, 0x400011, "XY", 2), 0);
    CHECK_EQ(emu_read_memory(m, 0x9010, bytes, 4), 0);
    CHECK(!memcmp(bytes, "aXYd", 4));
    CHECK_EQ(emu_read_virtual(m, 0, 0x401000, bytes, 4), EMU_EFAULT);
    CHECK_EQ(emu_read_virtual(m, 0, 0x400FFE, bytes, 4), EMU_EFAULT); /* its second half */
    CHECK_EQ(emu_write_virtual(m, 0, 0x401000, bytes, 4), EMU_EFAULT);
    CHECK_EQ(emu_read_virtual(m, 1, 0x400010, bytes, 4), EMU_EINVAL);
    CHECK_EQ(emu_monitor(m, "info tlb", reply, sizeof reply), 0);
    CHECK(strstr(reply, "400000: ") && strstr(reply, "9000 "));
    CHECK_EQ(emu_monitor(m, "info mem", reply, sizeof reply), 0);
    CHECK(strstr(reply, "400000-") && strstr(reply, "401000 ") && strstr(reply, "1000 -rw"));
    CHECK_EQ(emu_monitor(m, "x /4xb 0x400010", reply, sizeof reply), 0);
    CHECK(strstr(reply, ": 0x61 0x58 0x59 0x64\n") != NULL);
    CHECK_EQ(emu_monitor(m, "x /1xb 0x401000", reply, sizeof reply), 0);
    CHECK(strstr(reply, "Cannot access memory") != NULL);
    emu_destroy(m);
}

TEST_MAIN(TEST_CASE(two_machines_run_side_by_side_from_their_own_disks), TEST_CASE(memory_and_registers_can_be_written_and_read_back),
          TEST_CASE(a_limit_of_instructions_is_kept_exactly_by_the_host_clock), TEST_CASE(a_limit_of_instructions_is_kept_exactly_by_icount),
          TEST_CASE(a_limit_of_instructions_holds_from_power_on), TEST_CASE(a_guest_halted_for_good_gives_the_call_back),
          TEST_CASE(wrong_options_give_one_line),
          TEST_CASE(frames_go_both_ways_by_callback), TEST_CASE(stop_from_a_callback_and_every_block_is_given_back),
          TEST_CASE(idle_run_never_blocks_and_says_when_to_come_back),
          TEST_CASE(an_idle_machine_hands_out_the_descriptors_it_waits_for),
          TEST_CASE(versions_errors_and_cpus_are_told), TEST_CASE(pause_resume_reset_and_power_button),
          TEST_CASE(virtual_addresses_go_through_the_guests_tables))
