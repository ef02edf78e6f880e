/* smp.c - several processors taking turns, naps of processors that poll, looks at descriptors between, and the TSC deadline timer under writes of the TSC.
 *
 * Whole machines on which hand-assembled real-mode programs (the source is beside the bytes) run from the first instruction.
 */
#include "machine.h"
#include "cpu/cpu.h"
#include "cpu/desc.h"
#include "test.h"
#include <sys/resource.h>

enum { CODE0 = 0x8000, CODE1 = 0x8100, LOCK = 0x600, SEEN = 0x602 };

static size_t dropped;
static void drop_output(void *opaque, const void *bytes, size_t count)
{
    (void)opaque;
    (void)bytes;
    dropped += count;
}

static struct emu *machine(unsigned cpus, bool icount)
{
    const char *argv[] = { "-display", "none", "-monitor", "none", "-serial", "embed:line", "-m", "16M", "-smp", cpus == 1 ? "1" : cpus == 2 ? "2" : "4", "-icount",
                           "shift=3,sleep=off" };
    struct emu *e = emu_new(NULL);
    char why[400];
    if (!e || emu_provide_serial(e, "line", drop_output, NULL) || emu_configure(e, icount ? 12 : 10, argv, why, sizeof why)) {
        printf("machine: %s\n", why);
        return NULL;
    }
    return e;
}

/* CPU `index` begins at address at, in real mode with flat low selectors; it has got past INIT and SIPI. */
static void put_program(struct emu *e, unsigned index, uint64_t at, const char *bytes, size_t size)
{
    struct cpu_boot b;
    memset(&b, 0, sizeof b);
    b.kind = CPU_BOOT_REAL;
    b.rip = at;
    b.gpr[GPR_RSP] = 0x7000 - index * 0x100;
    mem_write(e, at, bytes, size);
    cpu_load_boot_state(e->cpus[index], &b);
}
#define PROGRAM(e, index, at, bytes) put_program(e, index, at, bytes, sizeof bytes - 1)

/* SeaBIOS counts its processors so: the lock is free only from the MOV to the next BTS, with PAUSE between. Other processors get in
 * only if PAUSE gives the turn away (SDM vol. 2B: PAUSE tells that this is a spin-wait loop). */
static void lock_handover(int *test_failed, bool icount)
{
    struct emu *e = machine(2, icount);
    CHECK(e != NULL);
    mem_st(e, LOCK, 1, 1);
    PROGRAM(e, 0, CODE0, "\xC6\x06\x00\x06\x00"         /* again: mov byte [600h], 0 */
                         "\xF3\x90"                     /* spin: pause */
                         "\xF0\x0F\xBA\x2E\x00\x06\x00" /* lock bts word [600h], 0 */
                         "\x72\xF5"                     /* jc spin */
                         "\x80\x3E\x02\x06\x01"         /* cmp byte [602h], 1 */
                         "\x75\xE9"                     /* jne again */
                         "\xEB\xFE");                   /* jmp $ */
    PROGRAM(e, 1, CODE1, "\xF3\x90"                     /* spin: pause */
                         "\xF0\x0F\xBA\x2E\x00\x06\x00" /* lock bts word [600h], 0 */
                         "\x72\xF5"                     /* jc spin */
                         "\xC6\x06\x02\x06\x01"         /* mov byte [602h], 1 */
                         "\xC6\x06\x00\x06\x00"         /* mov byte [600h], 0 */
                         "\xEB\xFE");                   /* jmp $ */
    machine_run(e, -1, 3000000, false);
    CHECK_EQ(mem_ld(e, SEEN, 1), 1);
    CHECK_EQ(e->cpus[0]->rip, CODE0 + 23);
    emu_destroy(e);
}
TEST(pause_lets_another_processor_take_a_short_lived_lock) { lock_handover(test_failed, true); }
TEST(pause_lets_another_processor_take_a_short_lived_lock_by_the_host_clock) { lock_handover(test_failed, false); }

static unsigned looks;
static int64_t looked_ns, shortest_rest_ns;
static void count_look(void *opaque)
{
    struct emu *e = opaque;
    if (looks++)
        shortest_rest_ns = EMU_MIN(shortest_rest_ns, e->next_poll_host_ns - looked_ns);
    looked_ns = host_clock_ns();
    emu_poll_now(e); /* as traffic does */
}
static void nothing_ready(void *opaque, unsigned events)
{
    (void)opaque;
    (void)events;
}

/* Thousands of connections: the looks at them leave most of the time to the guest. */
TEST(looking_at_many_descriptors_leaves_the_time_to_the_guest)
{
    static struct watch watches[5000];
    static struct host_poll_item items[5000];
    struct emu *e = machine(1, false);
    struct poll_hook hook;
    struct rlimit limit;
    host_fd read_end, write_end;
    int64_t began, took, least = INT64_MAX;
    size_t i, count;
    CHECK(e != NULL);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 5100 ? limit.rlim_max : 5100; /* poll() takes no more entries */
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 5100) {
        emu_destroy(e);
        SKIP("needs 5100 descriptors");
    }
    count = 5000;
    CHECK_EQ(host_wake_create(&read_end, &write_end), 0);
    for (i = 0; i < count; i++) {
        watch_add(e, &watches[i], read_end, HOST_READ, nothing_ready, NULL);
        items[i].fd = read_end;
        items[i].want = HOST_READ;
    }
    for (i = 0; i < 20; i++) {
        began = host_clock_ns();
        host_poll(items, count, 0);
        took = host_clock_ns() - began;
        least = EMU_MIN(least, took);
    }
    hook.fn = count_look;
    hook.opaque = e;
    poll_hook_add(e, &hook);
    PROGRAM(e, 0, CODE0, "\xEB\xFE"); /* jmp $ */
    looks = 0;
    shortest_rest_ns = INT64_MAX;
    machine_run(e, 400 * NS_PER_MS, -1, false);
    if (shortest_rest_ns < EMU_MIN(2 * least, 9 * NS_PER_MS))
        printf("%u looks of at least %d us, and %d us between two\n", looks, (int)(least / 1000), (int)(shortest_rest_ns / 1000));
    CHECK(shortest_rest_ns >= EMU_MIN(2 * least, 9 * NS_PER_MS));
    CHECK(looks > 3);
    poll_hook_remove(e, &hook);
    for (i = 0; i < count; i++)
        watch_remove(e, &watches[i]);
    host_fd_close(read_end);
    host_fd_close(write_end);
    emu_destroy(e);
}

/* Loops without PAUSE get equal turns: the counters of four processors stay within a tenth of each other. */
TEST(processors_that_spin_share_the_time)
{
    struct emu *e = machine(4, true);
    uint64_t least = UINT64_MAX, most = 0;
    unsigned i;
    CHECK(e != NULL);
    for (i = 0; i < 4; i++) {
        uint8_t loop[] = { 0x66, 0xFF, 0x06, 0x00, 0x06, 0xEB, 0xF9 }; /* inc dword [600h + 4 i]; jmp */
        loop[3] = (uint8_t)(4 * i);
        put_program(e, i, CODE0 + 0x100 * i, (const char *)loop, sizeof loop);
    }
    machine_run(e, -1, 8000000, false);
    for (i = 0; i < 4; i++) {
        uint64_t n = mem_ld(e, LOCK + 4 * i, 4);
        least = EMU_MIN(least, n);
        most = EMU_MAX(most, n);
    }
    CHECK(least > 900000 && most < 1100000); /* two instructions a turn of the loop */
    emu_destroy(e);
}

/* SDM vol. 3A §8.4.4: INIT, SIPI; the vector is the page at which the application processor begins, with CS:IP = VV00:0000. */
TEST(startup_ipi_begins_at_its_page)
{
    struct emu *e = machine(2, true);
    CHECK(e != NULL);
    CHECK(e->cpus[1]->waiting_sipi);
    PROGRAM(e, 0, CODE0, "\x66\xBB\x00\x03\xE0\xFE"                 /* mov ebx, FEE00300h */
                         "\x66\x67\xC7\x03\x00\x45\x0C\x00"         /* mov dword [ebx], C4500h: INIT, all but self */
                         "\x66\x67\xC7\x03\x09\x46\x0C\x00"         /* mov dword [ebx], C4609h: SIPI, page 9 */
                         "\xF3\x90"                                 /* wait: pause */
                         "\x80\x3E\x02\x06\x5A"                     /* cmp byte [602h], 5Ah */
                         "\x75\xF7\xEB\xFE");                       /* jne wait; jmp $ */
    e->cpus[0]->seg[SEG_DS].limit = 0xFFFFFFFFu; /* unreal mode, so that the APIC is in reach */
    cpu_update_mode(e->cpus[0]);
    mem_write(e, 0x9000, "\x2E\xC6\x06\x20\x00\x00\x8C\xC8\xA3\x04\x06\xC6\x06\x02\x06\x5A\xEB\xFE", 18); /* mov byte cs:[20h], 0; mov ax, cs; mov [604h], ax;
                                                                                                    * mov byte [602h], 5Ah; jmp $ */
    mem_st(e, 0x9020, 0xFF, 1);
    machine_run(e, -1, 3000000, false);
    CHECK_EQ(mem_ld(e, SEEN, 1), 0x5A);
    CHECK_EQ(mem_ld(e, 0x604, 2), 0x900);
    CHECK_EQ(mem_ld(e, 0x9020, 1), 0);
    emu_destroy(e);
}

/* GRUB's wait for a key on a serial line: IN of the line status until "data ready". */
static const char poll_serial[] = "\xBA\xFD\x03"     /* again: mov dx, 3FDh */
                                  "\xEC\xA8\x01"     /* in al, dx; test al, 1 */
                                  "\x74\xF8"         /* jz again */
                                  "\xBA\xF8\x03\xEC" /* mov dx, 3F8h; in al, dx */
                                  "\xA2\x02\x06"     /* mov [602h], al */
                                  "\xFA\xF4";        /* cli; hlt */
TEST(processor_that_polls_a_silent_line_naps_until_a_byte_comes)
{
    struct emu *e = machine(1, false);
    CHECK(e != NULL);
    put_program(e, 0, CODE0, poll_serial, sizeof poll_serial - 1);
    CHECK_EQ(machine_run(e, -1, 1000000, false), EMU_REASON_IDLE);
    CHECK(e->cpus[0]->napping);
    CHECK_EQ(emu_serial_input(e, "line", "K", 1), 1);
    CHECK_EQ(machine_run(e, -1, 1000000, false), EMU_REASON_IDLE);
    CHECK(e->cpus[0]->halted);
    CHECK_EQ(mem_ld(e, SEEN, 1), 'K');
    emu_destroy(e);
}

/* Idle means idle: a second of polling takes some thousands of instructions, not hundreds of millions; and it ends by itself, so that a
 * program that watches the time too sees it pass. */
TEST(naps_end_within_milliseconds)
{
    struct emu *e = machine(1, true);
    uint64_t insns;
    int64_t end;
    CHECK(e != NULL);
    put_program(e, 0, CODE0, poll_serial, sizeof poll_serial - 1);
    machine_run(e, -1, 20000, false);
    insns = e->insn_total;
    end = emu_now_ns(e) + NS_PER_SEC;
    while (emu_now_ns(e) < end)
        CHECK_EQ(machine_run(e, -1, 10, false), EMU_REASON_INSNS);
    CHECK(e->insn_total - insns > 4 * 50);      /* at least 50 wakes a second, of at least a loop's length */
    CHECK(e->insn_total - insns < 4 * 10000);
    emu_destroy(e);
}

/* A program that works between its looks at the line is not held up. */
TEST(processor_that_works_between_polls_does_not_nap)
{
    struct emu *e = machine(1, true);
    CHECK(e != NULL);
    PROGRAM(e, 0, CODE0, "\xB9\x00\x40\xE2\xFE"  /* again: mov cx, 4000h; loop $ */
                         "\xBA\xFD\x03\xEC"      /* mov dx, 3FDh; in al, dx */
                         "\xA8\x01\x74\xF3"      /* test al, 1; jz again */
                         "\xFA\xF4");
    CHECK_EQ(machine_run(e, -1, 40000000, false), EMU_REASON_INSNS);
    CHECK(!e->cpus[0]->napping);
    CHECK(emu_now_ns(e) < 41000000 * INT64_C(8)); /* no time was skipped */
    emu_destroy(e);
}

/* A line that sends is at work: the poll before each byte must not slow it. */
TEST(polled_output_does_not_nap)
{
    struct emu *e = machine(1, true);
    CHECK(e != NULL);
    PROGRAM(e, 0, CODE0, "\xBA\xFD\x03\xEC"  /* again: mov dx, 3FDh; in al, dx */
                         "\xA8\x20\x74\xF8"  /* test al, 20h; jz again */
                         "\xBA\xF8\x03\xEE"  /* mov dx, 3F8h; out dx, al */
                         "\xEB\xF2");        /* jmp again */
    dropped = 0;
    CHECK_EQ(machine_run(e, -1, 100000, false), EMU_REASON_INSNS);
    CHECK(dropped > 10000);
    CHECK_EQ(e->serial_bytes, dropped); /* what tells a guest that speaks to its screen only */
    emu_destroy(e);
}

static bool vector_waits(struct emu *e, unsigned vector) { return (mem_ld(e, 0xFEE00200 + (vector >> 5) * 16, 4) >> (vector & 31)) & 1; }

/* SDM vol. 3A §10.5.4.1: the interrupt comes when the TSC reaches the deadline, whoever moves it: IA32_TSC or IA32_TSC_ADJUST. */
TEST(tsc_deadline_follows_writes_of_the_tsc)
{
    struct emu *e = machine(1, true);
    struct cpu *c;
    uint64_t tsc, hz = cpu_tsc_hz(), ms = hz / 1000;
    CHECK(e != NULL);
    c = e->current_cpu = e->cpus[0];
    mem_st(e, 0xFEE000F0, 0x1FF, 4);
    mem_st(e, 0xFEE00320, 0x40040, 4); /* TSC deadline, vector 40h */
    tsc = cpu_tsc(c);
    CHECK_EQ(msr_write(c, 0x6E0, tsc + 10 * ms), CPU_OK);
    CHECK_EQ(msr_write(c, 0x10, tsc + 20 * ms), CPU_OK); /* jumps over it */
    clock_run_timers(e);
    CHECK(vector_waits(e, 0x40));
    mem_st(e, 0xFEE00320, 0x40041, 4);
    CHECK_EQ(msr_write(c, 0x6E0, cpu_tsc(c) + 10 * ms), CPU_OK);
    tsc = (uint64_t)emu_now_ns(e);
    CHECK_EQ(msr_write(c, 0x3B, (uint64_t)c->tsc_offset - 5 * ms), CPU_OK); /* 5 ms back */
    clock_warp_to(e, (int64_t)tsc + 12 * NS_PER_MS);
    clock_run_timers(e);
    CHECK(!vector_waits(e, 0x41));
    clock_warp_to(e, (int64_t)tsc + 16 * NS_PER_MS);
    clock_run_timers(e);
    CHECK(vector_waits(e, 0x41));
    e->current_cpu = NULL;
    emu_destroy(e);
}

TEST_MAIN(TEST_CASE(looking_at_many_descriptors_leaves_the_time_to_the_guest), TEST_CASE(pause_lets_another_processor_take_a_short_lived_lock), TEST_CASE(pause_lets_another_processor_take_a_short_lived_lock_by_the_host_clock),
          TEST_CASE(processors_that_spin_share_the_time), TEST_CASE(startup_ipi_begins_at_its_page),
          TEST_CASE(processor_that_polls_a_silent_line_naps_until_a_byte_comes), TEST_CASE(naps_end_within_milliseconds),
          TEST_CASE(processor_that_works_between_polls_does_not_nap), TEST_CASE(polled_output_does_not_nap), TEST_CASE(tsc_deadline_follows_writes_of_the_tsc))
