/* monitor.c - the monitor's commands, through emu_monitor(): expected answers from the guest program below, the SDM's encodings, CP437 as Unicode
 * maps it, the PNG and deflate specifications.
 *
 * The guest is a boot sector that prints "hello" by INT 10h and then prints each key that INT 16h gives it.
 */
#include "../emu.h"
#include "picture.h"
#include "test.h"

static const uint8_t boot_sector[] = {
    0xBE, 0x18, 0x7C,       /* 7C00 mov si,7C18h */
    0xAC,                   /* 7C03 next: lodsb */
    0x84, 0xC0,             /* 7C04 test al,al */
    0x74, 0x06,             /* 7C06 jz keys */
    0xB4, 0x0E, 0xCD, 0x10, /* 7C08 mov ah,0Eh; int 10h */
    0xEB, 0xF5,             /* 7C0C jmp next */
    0x30, 0xE4, 0xCD, 0x16, /* 7C0E keys: xor ah,ah; int 16h */
    0xB4, 0x0E, 0xCD, 0x10, /* 7C12 mov ah,0Eh; int 10h */
    0xEB, 0xF6,             /* 7C16 jmp keys */
    'h', 'e', 'l', 'l', 'o', 0
};

static uint8_t disk[64 * 512];
static struct emu *m;
static char reply[65536];

static int disk_read(void *opaque, uint64_t offset, void *buffer, size_t bytes)
{
    (void)opaque;
    if (offset > sizeof disk || bytes > sizeof disk - offset)
        return EMU_EIO;
    memcpy(buffer, disk + offset, bytes);
    return 0;
}

static const char *ask(const char *line)
{
    if (emu_monitor(m, line, reply, sizeof reply))
        snprintf(reply, sizeof reply, "(emu_monitor failed)");
    return reply;
}

static int run_until_screen_has(const char *text)
{
    struct emu_limits limits = { 50000000, -1, 1 };
    int i;
    for (i = 0; i < 400; i++) {
        emu_run(m, &limits, NULL);
        if (strstr(ask("screentext"), text))
            return 1;
    }
    return 0;
}

static void start(void)
{
    static const char *const options[] = { "-m", "16M", "-net", "none", "-drive", "file=embed:disk,format=raw,if=ide,readonly=on", "-name", "guest1",
        "-chardev", "null,id=line0", "-serial", "chardev:line0" };
    char error[300] = "";
    struct emu_disk_ops ops;
    if (m)
        return;
    memset(&ops, 0, sizeof ops);
    memcpy(disk, boot_sector, sizeof boot_sector);
    disk[510] = 0x55;
    disk[511] = 0xAA;
    ops.bytes = sizeof disk;
    ops.read_only = 1;
    ops.read = disk_read;
    m = emu_new(NULL);
    if (emu_provide_disk(m, "disk", &ops, NULL) || emu_configure(m, (int)(sizeof options / sizeof options[0]), options, error, sizeof error)) {
        printf("%s\n", error);
        exit(1);
    }
    if (!run_until_screen_has("hello"))
        printf("the boot sector did not come up\n");
}

TEST(x_and_xp_take_qemus_blank_and_every_format)
{
    start();
    CHECK(!strcmp(ask("x /4xw 0x7c00"), "0000000000007c00: 0xac7c18be 0x0674c084 0x10cd0eb4 0xe430f5eb\n"));
    CHECK(!strcmp(ask("x/4xw 0x7c00"), "0000000000007c00: 0xac7c18be 0x0674c084 0x10cd0eb4 0xe430f5eb\n"));
    CHECK(!strcmp(ask("xp /8xb 0x7c00"), "0000000000007c00: 0xbe 0x18 0x7c 0xac 0x84 0xc0 0x74 0x06\n"));
    CHECK(!strcmp(ask("xp /1xg 0x7c00"), "0000000000007c00: 0x0674c084ac7c18be\n"));
    CHECK(!strcmp(ask("xp/5c 0x7c18"), "0000000000007c18: 'h' 'e' 'l' 'l' 'o'\n"));
    CHECK(!strcmp(ask("x /2db 0x7c0c"), "0000000000007c0c: -21 -11\n")); /* EBh F5h */
    CHECK(!strcmp(ask("x /1uh 0x7c01"), "0000000000007c01: 31768\n"));   /* 7C18h */
    CHECK(!strcmp(ask("x 0x7dfe"), "0000000000007dfe: 0x0000aa55\n"));
    CHECK(strstr(ask("x /4zw 0"), "'z' is no format") != NULL);
    CHECK(strstr(ask("x /4xw"), "needs an address") != NULL);
    CHECK(strstr(ask("x /4xw $nosuch"), "needs an address") != NULL);
}

/* Real mode, CS selector F000h or 0: $eip of QEMU's monitor is linear, CS base + EIP. The encodings are SDM vol. 2's. */
TEST(x_i_disassembles_at_the_instruction_pointer)
{
    start();
    ask("stop");
    CHECK(strstr(ask("x /3i 0x7c03"), "0x00007c03:  lods") != NULL);
    CHECK(strstr(reply, "0x00007c04:  test al, al") != NULL && strstr(reply, "0x00007c06:  je 0x7c0e") != NULL);
    CHECK_EQ(emu_write_register(m, 0, "cs", 0x07C0), 0);
    CHECK_EQ(emu_write_register(m, 0, "rip", 4), 0);
    CHECK(strstr(ask("x/i $eip"), "0x00007c04:  test al, al\n") != NULL);
    CHECK(!strcmp(ask("print $pc"), "0x7c04\n"));
    ask("cont");
    ask("system_reset");
    CHECK(run_until_screen_has("hello"));
}

TEST(expressions_follow_qemus_ranks)
{
    start();
    CHECK(!strcmp(ask("print 1+2*3"), "0x7\n"));
    CHECK(!strcmp(ask("print (1+2)*3"), "0x9\n"));
    CHECK(!strcmp(ask("p /d 10-3-2"), "5\n"));
    CHECK(!strcmp(ask("p/x 0xff&0x3c"), "0x3c\n"));
    CHECK(!strcmp(ask("p /d -5"), "-5\n"));
    CHECK(!strcmp(ask("print ~0"), "0xffffffffffffffff\n"));
    CHECK(!strcmp(ask("print 7/2|8"), "0xb\n"));
    CHECK(strstr(ask("print 1/0"), "needs an expression") != NULL);
    CHECK(strstr(ask("print 1+"), "needs an expression") != NULL);
    CHECK(strstr(ask("print (1"), "needs an expression") != NULL);
    CHECK(strstr(ask("print (((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1"), "needs an expression") != NULL);
    ask("stop");
    emu_write_register(m, 0, "rbx", 0x1234);
    CHECK(!strcmp(ask("print $ebx+1"), "0x1235\n"));
    ask("cont");
}

/* Every topic and command of FEATURES that this part has answers, and is in the help. */
TEST(every_topic_and_command_answers)
{
    static const char *const topics[] = { "block", "chardev", "cpus", "irq", "lapic", "mem", "mtree", "name", "network", "pci", "pic", "qtree", "registers", "snapshots", "status",
        "tlb", "usb", "usernet", "uuid", "version" };
    static const char *const commands[] = { "change", "cont", "eject", "gdbserver", "hostfwd_add", "hostfwd_remove", "info", "log", "memsave", "mouse_button", "mouse_move", "netdev_add",
        "netdev_del", "nmi", "pmemsave", "print", "quit", "screendump", "screentext", "sendkey", "set_link", "stop", "system_powerdown", "system_reset", "x", "xp", "i", "o", "help" };
    static const char *const later[] = { "savevm a", "loadvm a", "delvm a", "commit all" };
    char line[100];
    size_t i;
    start();
    for (i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        snprintf(line, sizeof line, "info %s", topics[i]);
        ask(line);
        if (strstr(reply, "unknown") || (!reply[0] && strcmp(topics[i], "network") && strcmp(topics[i], "usernet")))
            printf("%s: %s\n", line, reply);
        CHECK(!strstr(reply, "unknown"));
        snprintf(line, sizeof line, "info %s", topics[i]);
        CHECK(strstr(ask("help info"), line) != NULL);
    }
    for (i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        snprintf(line, sizeof line, "help %s", commands[i]);
        CHECK(!strncmp(ask(line), commands[i], strlen(commands[i])) && strstr(reply, " -- "));
    }
    for (i = 0; i < sizeof later / sizeof later[0]; i++)
        CHECK(strstr(ask(later[i]), ": not supported yet") != NULL);
    CHECK(!strcmp(ask("frobnicate"), "unknown command: 'frobnicate'\n"));
    CHECK(!strcmp(ask("info frobnicate") + 0, reply) && !strncmp(reply, "unknown topic: 'frobnicate'\n", 28));
    CHECK(!strcmp(ask("help frobnicate"), "help: there is no command 'frobnicate'\n"));
    CHECK(!strcmp(ask("info status"), "VM status: running\n"));
    CHECK(!strcmp(ask("info name"), "guest1\n"));
    CHECK(strstr(ask("info pci"), "8086:1237") != NULL); /* 82441FX */
    CHECK(strstr(ask("info chardev"), "serial0: filename=") != NULL);
    CHECK(strstr(ask("info block"), "ide1-cd0") != NULL);
    CHECK(!strcmp(ask("info mem"), "PG disabled\n"));
}

TEST(stop_and_cont_and_reset)
{
    struct emu_limits limits = { 20000000, -1, 0 };
    struct emu_result r;
    start();
    ask("stop");
    CHECK_EQ(emu_run(m, &limits, &r), 0);
    CHECK_EQ(r.reason, EMU_REASON_PAUSED);
    CHECK(!strcmp(ask("info status"), "VM status: paused\n"));
    ask("c");
    CHECK(!strcmp(ask("info status"), "VM status: running\n"));
    ask("system_reset");
    emu_run(m, &limits, &r);
    CHECK(run_until_screen_has("hello"));
}

TEST(sendkey_types_and_names_what_it_does_not_know)
{
    struct emu_limits limits = { 300000000, -1, 1 };
    start();
    ask("sendkey a");
    CHECK(run_until_screen_has("a"));
    ask("sendkey shift-b");
    CHECK(run_until_screen_has("B"));
    emu_run(m, &limits, NULL); /* shift is held for 100 ms */
    ask("sendkey minus 10");
    CHECK(run_until_screen_has("-"));
    CHECK(!strcmp(ask("sendkey nokey"), "sendkey: unknown key: 'nokey'\n"));
    CHECK(strstr(ask("sendkey"), "needs keys") != NULL);
}

TEST(screentext_is_utf8_of_cp437)
{
    static const uint8_t cells[] = { 0xC9, 7, 0xCD, 7, 0xBB, 7, 0xB0, 7, 0x18, 7, 0xE1, 7, 'x', 7 };
    start();
    emu_write_memory(m, 0xB8000 + 20 * 160, cells, sizeof cells);
    CHECK(strstr(ask("screentext"), "\n\xE2\x95\x94\xE2\x95\x90\xE2\x95\x97\xE2\x96\x91\xE2\x86\x91\xC3\x9Fx\n") != NULL); /* U+2554 2550 2557 2591 2191 00DF */
}

/* PPM and PNG hold the pixels of emu_get_screen(). What guests draw is compared in graphics.c. */
TEST(screendumps_hold_the_picture)
{
    static const char *const paths[] = { "build/tests/monitor.ppm", "build/tests/monitor.png" };
    struct emu_screen s;
    struct picture p;
    int i, x, y;
    start();
    ask("stop");
    for (i = 0; i < 2; i++) {
        char line[80];
        snprintf(line, sizeof line, "screendump %s", paths[i]);
        CHECK(!strcmp(ask(line), ""));
        CHECK_EQ(emu_get_screen(m, &s), 0);
        CHECK(picture_load(paths[i], &p));
        CHECK(p.width == s.width && p.height == s.height);
        for (y = 0; y < p.height; y++)
            for (x = 0; x < p.width; x++)
                CHECK_EQ(p.pixels[y * p.width + x], s.pixels[y * s.stride_pixels + x] & 0xFFFFFF);
        free(p.pixels);
        remove(paths[i]);
    }
    ask("cont");
    CHECK(strstr(ask("screendump /nonexistent/x.png"), "/nonexistent/x.png") != NULL);
    CHECK(strstr(ask("screendump a.gif -f gif"), "not a picture format") != NULL);
}

TEST(memory_is_saved_to_files)
{
    uint8_t *p;
    size_t size;
    start();
    CHECK(!strcmp(ask("pmemsave 0x7c00 24 build/tests/monitor.mem"), ""));
    p = picture_load_file("build/tests/monitor.mem", &size);
    CHECK(p && size == 24 && !memcmp(p, boot_sector, 24));
    free(p);
    CHECK(!strcmp(ask("memsave 0x7c00 24 build/tests/monitor.mem"), ""));
    p = picture_load_file("build/tests/monitor.mem", &size);
    CHECK(p && size == 24 && !memcmp(p, boot_sector, 24));
    free(p);
    remove("build/tests/monitor.mem");
    CHECK(strstr(ask("pmemsave 0 16 /nonexistent/x"), "/nonexistent/x") != NULL);
    CHECK(strstr(ask("pmemsave 0 0xffffffffffff x"), "needs address, size and file") != NULL);
}

TEST(media_commands_name_what_is_wrong)
{
    start();
    CHECK(!strcmp(ask("eject nosuch"), "Device 'nosuch' not found\n"));
    CHECK(!strcmp(ask("change nosuch file"), "Device 'nosuch' not found\n"));
    CHECK(strstr(ask("change ide1-cd0 /nonexistent/x.iso"), "/nonexistent/x.iso") != NULL);
    CHECK(strchr(reply, '\n') == reply + strlen(reply) - 1);
    CHECK(strstr(ask("change ide1-cd0"), "needs a device and a file") != NULL);
}

/* QEMU's i and o: i/FMT port [index], where an index goes to the port first. 8086:1237 is the 82441FX; CMOS 0Ah holds the RTC's divider, 26h. */
TEST(ports_are_read_and_written)
{
    start();
    ask("stop");
    CHECK(!strcmp(ask("o /w 0xcf8 0x80000000"), ""));
    CHECK(!strcmp(ask("i /w 0xcfc"), "portl[0x0cfc] = 0x12378086\n"));
    CHECK(!strcmp(ask("i/h 0xcfc"), "portw[0x0cfc] = 0x8086\n"));
    CHECK(!strcmp(ask("i/b 0xcfe"), "portb[0x0cfe] = 0x37\n"));
    CHECK(!strcmp(ask("i 0x70 0x0a"), "portb[0x0071] = 0x26\n"));
    CHECK(strstr(ask("i"), "needs a port") && strstr(ask("i 0x10000"), "needs a port") && strstr(ask("o 0x80"), "needs a port and a value"));
    ask("cont");
}

/* The next byte of the keyboard controller, which comes at the wire's pace. */
static unsigned next_byte(void)
{
    struct emu_limits limits = { 5000000, -1, 1 };
    emu_run(m, &limits, NULL);
    return strchr(ask("i 0x60"), '=') ? (unsigned)strtoul(strchr(reply, '=') + 1, NULL, 0) : 0x100;
}

/* PS/2: A8h and, behind D4h, F4h start the mouse, which answers FAh. A packet is flags (bit 3 set; sign of Y in bit 5; buttons left, right, middle from
 * bit 0), X to the right, Y upward; the monitor's dy is downward, and its buttons are 1 left, 2 middle, 4 right. */
TEST(mouse_moves_and_presses)
{
    static const struct {
        const char *line;
        uint8_t packet[3];
    } rows[] = { { "mouse_move 5 3", { 0x28, 5, 0xFD } }, { "mouse_button 2", { 0x0C, 0, 0 } },
        { "mouse_button 5", { 0x0B, 0, 0 } }, { "mouse_button 0", { 0x08, 0, 0 } } };
    size_t i, k;
    start();
    ask("o 0x64 0xa8");
    ask("o 0x64 0xd4");
    ask("o 0x60 0xf4");
    CHECK_EQ(next_byte(), 0xFA);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK(!strcmp(ask(rows[i].line), ""));
        for (k = 0; k < 3; k++)
            CHECK_EQ(next_byte(), rows[i].packet[k]);
    }
    CHECK(strstr(ask("mouse_button"), "needs a state") != NULL);
    ask("system_reset");
    CHECK(run_until_screen_has("hello"));
}

/* The NMI is vector 2 (SDM vol. 3 table 6-1), at 0:8 of real mode's table; the power button sets PWRBTN_STS, bit 8 of PM1_STS (ACPI 6 table 4.11). */
TEST(nmi_and_power_button_reach_the_guest)
{
    static const uint8_t handler[] = { 0x50, 0x1E, 0x31, 0xC0, 0x8E, 0xD8, 0xFF, 0x06, 0x00, 0x61, 0x1F, 0x58, 0xCF }; /* inc word [6100h], and all back */
    static const uint8_t vector[] = { 0x00, 0x60, 0x00, 0x00 }, zero[2] = { 0, 0 };
    struct emu_limits limits = { 20000000, -1, 0 };
    uint8_t count[2];
    start();
    ask("stop");
    emu_write_memory(m, 0x6000, handler, sizeof handler);
    emu_write_memory(m, 0x6100, zero, sizeof zero);
    emu_write_memory(m, 8, vector, sizeof vector);
    ask("cont");
    emu_run(m, &limits, NULL);
    emu_read_memory(m, 0x6100, count, 2);
    CHECK_EQ(count[0], 0);
    CHECK(!strcmp(ask("nmi"), ""));
    emu_run(m, &limits, NULL);
    emu_read_memory(m, 0x6100, count, 2);
    CHECK_EQ(count[0], 1);
    CHECK((strtoul(strchr(ask("i /h 0x600"), '=') + 1, NULL, 0) & 0x100) == 0);
    CHECK(!strcmp(ask("system_powerdown"), ""));
    emu_run(m, &limits, NULL);
    CHECK((strtoul(strchr(ask("i /h 0x600"), '=') + 1, NULL, 0) & 0x100) != 0);
    ask("system_reset");
    CHECK(run_until_screen_has("hello"));
}

/* What the topics tell of this machine: the architectural addresses of its chips, the registers, the controllers after this firmware's work. */
TEST(topics_tell_the_machines_state)
{
    start();
    ask("stop");
    emu_write_register(m, 0, "r12", 0x123456789ABCDEF0);
    CHECK(strstr(ask("info registers"), "R12=123456789abcdef0") && strstr(reply, "CPU#0") && strstr(reply, "CR0="));
    CHECK(strstr(reply, "XMM15=") && strstr(reply, "EFER="));
    CHECK(strstr(ask("info cpus"), "* CPU #0: ") != NULL);
    CHECK(strstr(ask("info mtree"), "00000000000a0000-00000000000bffff vga") && strstr(reply, "00000000fec00000-"));
    CHECK(strstr(reply, "00000000fed00000-") && strstr(reply, "00000000fee00000-"));
    CHECK(strstr(reply, "0020-0021") && strstr(reply, "0040-0043") && strstr(reply, "01f0-01f7") && strstr(reply, "03f8-03ff") && strstr(reply, "0510-0511"));
    CHECK(strstr(ask("info pic"), "irq_base=08") && strstr(reply, "irq_base=70") && strstr(reply, "pin 23 ")); /* IBM PC/AT: 08h and 70h */
    CHECK(strstr(ask("info lapic"), "base 0xfee00000") && strstr(reply, "LVT0") && strstr(ask("info lapic 7"), "there is no CPU 7"));
    CHECK(strstr(ask("info qtree"), "dev: PIIX3") && strstr(reply, "dev: VGA") && strstr(reply, "dev: ide-hd"));
    CHECK(!strncmp(ask("info version"), "emu " EMU_VERSION, strlen("emu " EMU_VERSION)));
    CHECK(!strcmp(ask("info uuid"), "00000000-0000-0000-0000-000000000000\n"));
    CHECK(strstr(ask("info usb"), "USB support not enabled") != NULL);
    ask("cont");
}

static unsigned logged;
static void count_line(void *opaque, const char *line) { logged += (opaque == &logged) && strstr(line, "v=10 ") != NULL; }

/* log: the items of -d, while it runs. The boot sector's INT 10h are interrupts. */
TEST(log_is_switched_while_it_runs)
{
    static const char *const options[] = { "-m", "16M", "-net", "none", "-drive", "file=embed:disk,format=raw,if=ide,readonly=on" };
    struct emu *kept;
    struct emu_disk_ops ops;
    struct emu_hooks hooks;
    unsigned before;
    start();
    kept = m;
    memset(&ops, 0, sizeof ops);
    memset(&hooks, 0, sizeof hooks);
    hooks.opaque = &logged;
    hooks.log = count_line;
    ops.bytes = sizeof disk;
    ops.read_only = 1;
    ops.read = disk_read;
    m = emu_new(&hooks);
    CHECK(m && !emu_provide_disk(m, "disk", &ops, NULL) && !emu_configure(m, (int)(sizeof options / sizeof options[0]), options, NULL, 0));
    CHECK(run_until_screen_has("hello"));
    CHECK_EQ(logged, 0);
    CHECK(!strcmp(ask("log int,guest_errors"), ""));
    ask("system_reset");
    CHECK(run_until_screen_has("hello"));
    CHECK(logged >= 5);
    before = logged;
    CHECK(!strcmp(ask("log none"), ""));
    ask("system_reset");
    CHECK(run_until_screen_has("hello"));
    CHECK_EQ(logged, before);
    CHECK(strstr(ask("log frobnicate"), "unknown item frobnicate") && strstr(ask("log"), "none, or items"));
    emu_destroy(m);
    m = kept;
}

TEST(media_come_and_go)
{
    FILE *f = fopen("build/tests/monitor.iso", "wb");
    int i;
    start();
    CHECK(f != NULL);
    for (i = 0; i < 8192; i++)
        fputc(i >> 11, f);
    fclose(f);
    CHECK(strstr(ask("info block"), "ide1-cd0: [not inserted]") != NULL);
    CHECK(!strcmp(ask("change ide1-cd0 build/tests/monitor.iso raw"), ""));
    CHECK(strstr(ask("info block"), "ide1-cd0: build/tests/monitor.iso (raw, read-only") && strstr(reply, "8192 bytes"));
    CHECK(!strcmp(ask("eject ide1-cd0"), ""));
    CHECK(strstr(ask("info block"), "ide1-cd0: [not inserted]") != NULL);
    CHECK(strstr(ask("change ide0-hd0 build/tests/monitor.iso raw"), "ide0-hd0: is not removable") != NULL);
    CHECK(strstr(ask("eject ide0-hd0"), "ide0-hd0: is not removable") != NULL);
    remove("build/tests/monitor.iso");
}

TEST(zz_quit)
{
    struct emu_result r;
    start();
    ask("q");
    CHECK_EQ(emu_run(m, NULL, &r), 0);
    CHECK(r.reason == EMU_REASON_EXIT && r.exit_status == 0);
    emu_destroy(m);
}

TEST_MAIN(TEST_CASE(x_and_xp_take_qemus_blank_and_every_format), TEST_CASE(x_i_disassembles_at_the_instruction_pointer), TEST_CASE(expressions_follow_qemus_ranks),
          TEST_CASE(every_topic_and_command_answers), TEST_CASE(stop_and_cont_and_reset), TEST_CASE(sendkey_types_and_names_what_it_does_not_know),
          TEST_CASE(screentext_is_utf8_of_cp437), TEST_CASE(screendumps_hold_the_picture), TEST_CASE(memory_is_saved_to_files), TEST_CASE(media_commands_name_what_is_wrong),
          TEST_CASE(ports_are_read_and_written), TEST_CASE(mouse_moves_and_presses), TEST_CASE(nmi_and_power_button_reach_the_guest),
          TEST_CASE(topics_tell_the_machines_state), TEST_CASE(log_is_switched_while_it_runs), TEST_CASE(media_come_and_go), TEST_CASE(zz_quit))
