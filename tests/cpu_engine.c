/* cpu_engine.c - the engine between instructions: traces, their links and tiers, exact counts, code that changes.
 *
 * A bare machine runs hand-assembled 64-bit loops (the source is beside the bytes) through cpu_run(), long enough that they are optimised, and
 * looks at registers, memory and the instruction count. What instructions compute is the business of cpu_diff.c.
 */
#include "machine.h"
#include "cpu/cpu.h"
#include "dev/dev.h"
#include "test.h"

enum {
    GDT = 0x1000, IDT = 0x2000, HANDLERS = 0x6000, CODE = 0x8000, STACK = 0xA000, PML4 = 0x100000, PDPT = PML4 + 0x1000, PD = PML4 + 0x2000,
    PT = PML4 + 0x3000, DATA = 0x200000, IO = 0xF00000
};

static struct region ram_region, io_region;
static uint64_t io_count[4096], io_reads;

static uint64_t io_read(void *opaque, uint64_t offset, unsigned size)
{
    struct cpu *c = opaque;
    (void)offset;
    (void)size;
    if (io_reads < 4096)
        io_count[io_reads] = cpu_insn_count(c);
    return ++io_reads;
}
static void io_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct cpu *c = opaque;
    (void)size;
    if (value == 0x77)
        cpu_set_interrupt(c, CPU_INT_NMI, true);
    if (value == 0x78) /* the PIC's line 1: at offset 0 on, at 4 off */
        pic_set_line(c->emu, 1, offset == 0);
}
static const struct region_ops io_ops = { io_read, io_write, 1, 8, true };

static void poke(struct cpu *c, uint64_t gpa, const void *p, size_t n) { mem_write(c->emu, gpa, p, n); }
static void poke64(struct cpu *c, uint64_t gpa, uint64_t v) { mem_st(c->emu, gpa, v, 8); }

/* 16 MiB, mapped one to one by 4 KiB pages in 64-bit mode; the page at IO is a device. Handler of vector v: HLT at HANDLERS + 16 v. */
enum machine_kind { LONG, REAL };
static struct cpu *machine(enum machine_kind kind)
{
    struct emu *e = emu_new(NULL);
    struct cpu *c = NULL;
    struct cpu_boot b;
    struct err err;
    unsigned v;
    if (!e || clock_create(e) || memory_create(e, &err))
        return NULL;
    e->config.icount = true;
    e->ram = ram_block_create(e, "ram", 16 * MIB, false, &err);
    if (!e->ram)
        return NULL;
    e->ram_below_4g = 16 * MIB;
    region_init_ram(&ram_region, "ram", e->ram, 0, 16 * MIB);
    e->cpus = emu_alloc(e, sizeof *e->cpus);
    if (region_add(e, &e->memory, &ram_region, 0, 0) || cpu_create(e, 0, &c, &err) || cpu_set_model(c, "max", &err))
        return NULL;
    e->cpus[0] = c;
    e->cpu_count = 1;
    region_init_io(&io_region, "test", &io_ops, c, 4096);
    if (region_add(e, &e->memory, &io_region, IO, 10))
        return NULL;
    io_reads = 0;
    memset(&b, 0, sizeof b);
    if (kind == REAL) {
        b.kind = CPU_BOOT_REAL;
        b.rip = CODE;
        b.gpr[GPR_RSP] = 0x7000;
        cpu_load_boot_state(c, &b);
        return c;
    }
    poke64(c, PML4, PDPT | 7);
    poke64(c, PDPT, PD | 7);
    for (v = 0; v < 8; v++)
        poke64(c, PD + v * 8, (PT + v * 0x1000) | 7);
    for (v = 0; v < 4096; v++)
        poke64(c, PT + v * 8, (uint64_t)v << 12 | 7);
    poke64(c, GDT + 8, UINT64_C(0x00AF9B000000FFFF));
    poke64(c, GDT + 16, UINT64_C(0x00CF93000000FFFF));
    for (v = 0; v < 256; v++) {
        uint8_t hlt = 0xF4;
        uint64_t at = HANDLERS + v * 16;
        poke64(c, IDT + v * 16, (at & 0xFFFF) | 8 << 16 | UINT64_C(0x8E) << 40 | (at >> 16) << 48);
        poke64(c, IDT + v * 16 + 8, 0);
        poke(c, at, &hlt, 1);
    }
    b.kind = CPU_BOOT_LONG64;
    b.cs = 8;
    b.ds = b.es = b.ss = 16;
    b.rip = CODE;
    b.cr3 = PML4;
    b.gpr[GPR_RSP] = STACK;
    b.gdt_base = GDT;
    b.gdt_limit = 0x17;
    cpu_load_boot_state(c, &b);
    c->idtr.base = IDT;
    c->idtr.limit = 0xFFF;
    c->efer |= EFER_NXE;
    return c;
}
#define PUT(c, at, bytes) poke(c, at, bytes, sizeof(bytes) - 1)

static enum cpu_exit go(struct cpu *c, int64_t budget)
{
    enum cpu_exit r;
    c->emu->current_cpu = c;
    r = cpu_run(c, budget);
    c->emu->current_cpu = NULL;
    return r;
}
/* Until HLT. */
static bool finish(struct cpu *c)
{
    unsigned n;
    for (n = 0; n < 100 && !c->halted; n++)
        go(c, 1000000);
    return c->halted;
}
static unsigned vector_at(const struct cpu *c) { return c->rip > HANDLERS && c->rip <= HANDLERS + 0x1000 ? (unsigned)(c->rip - HANDLERS) / 16 : 0xFFF; }

/* mov ecx,1000000; 1: add rax,3; xor rbx,rax; dec ecx; jnz 1b; hlt */
static const char sum_loop[] = "\xB9\x40\x42\x0F\x00\x48\x83\xC0\x03\x48\x31\xC3\xFF\xC9\x75\xF5\xF4";

TEST(budgets_are_exact_and_do_not_change_results)
{
    static const int64_t budgets[] = { 1, 2, 3, 63, 64, 65, 66, 67, 100, 129, 1000, 4097, 16384, 50000 };
    uint64_t expect = 0, a = 0;
    unsigned k;
    struct cpu *c;
    for (k = 0; k < 1000000; k++) {
        a += 3;
        expect ^= a;
    }
    c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, sum_loop);
    for (k = 0; !c->halted; k++) {
        uint64_t before = c->icount;
        int64_t b = budgets[k % EMU_ARRAY_LEN(budgets)];
        enum cpu_exit r = go(c, b);
        CHECK_EQ(cpu_insn_count(c), c->icount);
        if (r == CPU_EXIT_BUDGET)
            CHECK_EQ(c->icount - before, b);
    }
    CHECK_EQ(c->icount, 1 + 4 * 1000000 + 1);
    CHECK_EQ(c->gpr[GPR_RAX], 3000000);
    CHECK_EQ(c->gpr[GPR_RBX], expect);
}

TEST(stepping_and_traces_reach_the_same_state)
{
    struct cpu *c = machine(LONG), *s;
    unsigned k;
    CHECK(c != NULL);
    PUT(c, CODE, sum_loop);
    go(c, 20001);
    s = machine(LONG);
    CHECK(s != NULL);
    PUT(s, CODE, sum_loop);
    for (k = 0; k < 20001; k++)
        cpu_step(s);
    CHECK_EQ(c->rip, s->rip);
    CHECK_EQ(cpu_eflags(c), cpu_eflags(s));
    CHECK(!memcmp(c->gpr, s->gpr, 16 * sizeof c->gpr[0]));
}

/* SDM 3A §8.1.3: on the same processor a store into code takes effect at the next instruction (linear addresses the same).
 * mov byte ptr [rip+1],0x22 (the immediate of the next one); mov cl,0x11; hlt */
TEST(a_store_into_the_next_instruction_takes_effect)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xC6\x05\x01\x00\x00\x00\x22\xB1\x11\xF4");
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RCX], 0x22);
}

/* xor eax,eax; mov ecx,3000; 1: mov edx,5; add eax,edx; cmp ecx,1000; jne 2f; mov byte ptr [rdi+8],7; 2: dec ecx; jnz 1b; hlt */
TEST(a_hot_loop_that_patches_itself_sees_it)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x31\xC0\xB9\xB8\x0B\x00\x00\xBA\x05\x00\x00\x00\x01\xD0\x81\xF9\xE8\x03\x00\x00\x75\x04\xC6\x47\x08\x07\xFF\xC9\x75\xE9\xF4");
    c->gpr[GPR_RDI] = CODE;
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 2001 * 5 + 999 * 7); /* ECX = 3000..1000 with 5 */
}

/* mov ecx,400; 1: call rdx; dec ecx; jnz 1b; hlt */
TEST(dma_into_hot_code_is_noticed)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x90\x01\x00\x00\xFF\xD2\xFF\xC9\x75\xFA\xF4");
    PUT(c, 0x9000, "\x48\x83\xC0\x05\xC3"); /* add rax,5; ret */
    c->gpr[GPR_RDX] = 0x9000;
    CHECK_EQ(go(c, 1 + 200 * 5), CPU_EXIT_BUDGET);
    CHECK_EQ(c->gpr[GPR_RAX], 1000);
    PUT(c, 0x9000, "\x48\x83\xC0\x07\xC3");
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 1000 + 200 * 7);
}

TEST(code_follows_its_mapping)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x90\x01\x00\x00\xFF\xD2\xFF\xC9\x75\xFA\xF4");
    PUT(c, 0x9000, "\x48\x83\xC0\x05\xC3");
    PUT(c, 0xB000, "\x48\x83\xC0\x07\xC3");
    c->gpr[GPR_RDX] = 0x9000;
    go(c, 1 + 200 * 5);
    poke64(c, PT + 9 * 8, 0xB000 | 7);
    tlb_flush_page(c, 0x9000);
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 1000 + 200 * 7);
}

/* mov ecx,400; 1: add rax,[rbx]; cmp ecx,200; jne 2f; mov [rsi],rdi; invlpg [rbx]; 2: dec ecx; jnz 1b; hlt */
TEST(data_follows_its_mapping_after_invlpg)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x90\x01\x00\x00\x48\x03\x03\x81\xF9\xC8\x00\x00\x00\x75\x06\x48\x89\x3E\x0F\x01\x3B\xFF\xC9\x75\xEB\xF4");
    poke64(c, DATA, 1);
    poke64(c, DATA + 0x1000, 100);
    c->gpr[GPR_RBX] = DATA;
    c->gpr[GPR_RSI] = PT + (DATA >> 12) * 8;
    c->gpr[GPR_RDI] = (DATA + 0x1000) | 7;
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 201 + 199 * 100);
}

/* mov ecx,300; mov rbx,0x200000; 1: cmp ecx,1; cmove rbx,rdi; mov eax,0x7fffffff; add eax,1; mov rdx,[rbx]; dec ecx; jnz 1b; hlt */
TEST(a_fault_in_a_hot_trace_finds_flags_and_count_exact)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x2C\x01\x00\x00\x48\xC7\xC3\x00\x00\x20\x00\x83\xF9\x01\x48\x0F\x44\xDF\xB8\xFF\xFF\xFF\x7F\x83\xC0\x01\x48\x8B\x13\xFF\xC9\x75\xEA\xF4");
    c->gpr[GPR_RDI] = 0x40000000; /* not mapped */
    CHECK(finish(c));
    CHECK_EQ(vector_at(c), EXC_PF);
    CHECK_EQ(c->cr2, 0x40000000);
    CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP] + 8, 8), CODE + 27);       /* RIP of the load */
    CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP] + 24, 8), 0x10000 /* RF */ | FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF | 2);
    CHECK_EQ(c->gpr[GPR_RCX], 1);
    CHECK_EQ(c->icount, 2 + 299 * 7 + 4 + 1 /* the handler's HLT */);
}

/* mov ecx,2000; 1: mov eax,[rbx]; add rsi,rax; nop; mov rdx,[rbx]; dec ecx; jnz 1b; hlt */
TEST(a_device_sees_the_exact_instruction_count)
{
    struct cpu *c = machine(LONG);
    unsigned k;
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\xD0\x07\x00\x00\x8B\x03\x48\x01\xC6\x90\x48\x8B\x13\xFF\xC9\x75\xF3\xF4");
    c->gpr[GPR_RBX] = IO;
    CHECK(finish(c));
    CHECK_EQ(io_reads, 4000);
    for (k = 0; k < 2000; k++) {
        CHECK_EQ(io_count[2 * k], 1 + k * 6);
        CHECK_EQ(io_count[2 * k + 1], 1 + k * 6 + 3);
    }
}

/* mov ecx,300; 1: mov [rbx],rcx; add rax,[rbx]; dec ecx; jnz 1b; hlt */
TEST(accesses_that_cross_pages_work_in_hot_traces)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x2C\x01\x00\x00\x48\x89\x0B\x48\x03\x03\xFF\xC9\x75\xF6\xF4");
    c->gpr[GPR_RBX] = DATA + 0xFFD;
    poke64(c, PT + (DATA / 4096 + 1) * 8, (DATA + 0x5000) | 7); /* not contiguous */
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 300 * 301 / 2);
    CHECK_EQ(mem_ld(c->emu, DATA + 0xFFD, 1), 1);
    CHECK_EQ(mem_ld(c->emu, DATA + 0x5000, 4), 0);
}

/* mov r9d,300; 1: add ax,[rbx]; add cx,[rbx]; add dx,[rbx]; add si,[rbx]; add di,[rbx]; dec r9d; jnz 1b; hlt: what no page holds alone goes by a
 * copy, and its sum must not be lost on the way back to the register. The same with bytes from a device. */
TEST(short_sums_with_operands_across_pages_or_from_devices_reach_their_registers)
{
    static const unsigned regs[] = { GPR_RAX, GPR_RCX, GPR_RDX, GPR_RSI, GPR_RDI };
    struct cpu *c = machine(LONG);
    unsigned k;
    CHECK(c != NULL);
    PUT(c, CODE, "\x41\xB9\x2C\x01\x00\x00\x66\x03\x03\x66\x03\x0B\x66\x03\x13\x66\x03\x33\x66\x03\x3B\x41\xFF\xC9\x75\xEC\xF4");
    c->gpr[GPR_RBX] = DATA + 0xFFF;
    PUT(c, DATA + 0xFFF, "\x02\x01");
    for (k = 0; k < 5; k++)
        c->gpr[regs[k]] = UINT64_C(0x1111222233330000) + k;
    CHECK(finish(c));
    for (k = 0; k < 5; k++)
        CHECK_EQ(c->gpr[regs[k]], UINT64_C(0x1111222233330000) + (uint16_t)(k + 300 * 0x102));

    /* mov r9d,300; 1: add al,[rbx]; add cl,[rbx]; add dl,[rbx]; dec r9d; jnz 1b; hlt: the device gives 1, 2, 3, ... */
    c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x41\xB9\x2C\x01\x00\x00\x02\x03\x02\x0B\x02\x13\x41\xFF\xC9\x75\xF5\xF4");
    c->gpr[GPR_RBX] = IO;
    for (k = 0; k < 3; k++)
        c->gpr[regs[k]] = 0;
    CHECK(finish(c));
    CHECK_EQ(io_reads, 900);
    for (k = 0; k < 3; k++)
        CHECK_EQ(c->gpr[regs[k]], (uint8_t)(3 * (299 * 300 / 2) + 300 * (k + 1)));
}

/* mov r9d,300; 1: xadd [rbx],ecx; cmpxchg [rbx],edx; dec r9d; jnz 1b; hlt, inside a page and across two: SDM 2 XADD, CMPXCHG */
TEST(xadd_and_cmpxchg_in_hot_traces_also_across_pages)
{
    unsigned where, k;
    for (where = 0xFF0; where <= 0xFFE; where += 0xE) {
        struct cpu *c = machine(LONG);
        uint32_t m = 5, a = 7, x = 3, d = 9, old;
        CHECK(c != NULL);
        PUT(c, CODE, "\x41\xB9\x2C\x01\x00\x00\x0F\xC1\x0B\x0F\xB1\x13\x41\xFF\xC9\x75\xF5\xF4");
        c->gpr[GPR_RBX] = DATA + where;
        PUT(c, DATA + where, "\x05\x00\x00\x00");
        c->gpr[GPR_RAX] = UINT64_C(0x5555555500000000) | a;
        c->gpr[GPR_RCX] = UINT64_C(0x5555555500000000) | x;
        c->gpr[GPR_RDX] = UINT64_C(0x5555555500000000) | d;
        CHECK(finish(c));
        for (k = 0; k < 300; k++) {
            old = m;
            m += x;
            x = old;
            if (a == m)
                m = d;
            else
                a = m;
        }
        CHECK_EQ(c->gpr[GPR_RAX], a);
        CHECK_EQ(c->gpr[GPR_RCX], x);
        CHECK_EQ(c->gpr[GPR_RDX], UINT64_C(0x5555555500000000) | d);
        CHECK_EQ(mem_ld(c->emu, DATA + where, 4), m);
    }
}

/* mov eax,0x11223344 with two bytes in the next page, whose mapping changes */
TEST(an_instruction_across_pages_follows_both_mappings)
{
    struct cpu *c = machine(LONG);
    unsigned k;
    CHECK(c != NULL);
    PUT(c, 0x9FFD, "\xB8\x44\x33\x22\x11\xF4");
    PUT(c, 0xC000, "\x66\x55\xF4");
    for (k = 0; k < 100; k++) {
        poke64(c, PT + 10 * 8, (k & 1 ? 0xC000u : 0xA000u) | 7);
        tlb_flush_page(c, 0xA000);
        c->rip = 0x9FFD;
        c->halted = false;
        CHECK(finish(c));
        CHECK_EQ(c->gpr[GPR_RAX], k & 1 ? 0x55663344 : 0x11223344);
    }
}

/* mov ecx,5; 1: dec ecx; jnz 1b; hlt. Each #DB handler is HLT: the test returns by hand. */
TEST(single_step_traps_after_every_instruction)
{
    struct cpu *c = machine(LONG);
    unsigned traps = 0;
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x05\x00\x00\x00\xFF\xC9\x75\xFC\xF4");
    c->eflags |= FLAG_TF;
    while (traps < 30) {
        go(c, 1000);
        if (vector_at(c) != EXC_DB)
            break;
        traps++;
        CHECK_EQ(c->dr[6] & 0x4000, 0x4000);
        c->rip = mem_ld(c->emu, c->gpr[GPR_RSP], 8);
        cpu_set_eflags(c, (uint32_t)mem_ld(c->emu, c->gpr[GPR_RSP] + 16, 8));
        c->gpr[GPR_RSP] = mem_ld(c->emu, c->gpr[GPR_RSP] + 24, 8);
        c->halted = false;
        if (c->rip == CODE + 9)
            break;
    }
    CHECK_EQ(traps, 11);
}

/* mov [rbx],eax; nop; nop; hlt: the store raises an NMI, which is taken at once */
TEST(an_interrupt_raised_by_a_store_is_taken_at_the_next_exit)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x89\x03\xEB\x00\x90\x90\xF4"); /* mov [rbx],eax; jmp +0; nop; nop; hlt */
    c->gpr[GPR_RBX] = IO;
    c->gpr[GPR_RAX] = 0x77;
    go(c, 100000);
    CHECK_EQ(vector_at(c), EXC_NMI);
    CHECK(mem_ld(c->emu, c->gpr[GPR_RSP], 8) <= CODE + 6);
}

/* rep stosb over 3 pages, stopped at budgets */
TEST(string_instructions_make_progress_and_end)
{
    struct cpu *c = machine(LONG);
    uint8_t last[2];
    CHECK(c != NULL);
    PUT(c, CODE, "\xF3\xAA\xF4");
    c->gpr[GPR_RAX] = 0x5A;
    c->gpr[GPR_RDI] = DATA + 5;
    c->gpr[GPR_RCX] = 300000;
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RCX], 0);
    CHECK_EQ(c->gpr[GPR_RDI], DATA + 5 + 300000);
    mem_read(c->emu, DATA + 5 + 299999, last, 2);
    CHECK_EQ(last[0], 0x5A);
    CHECK_EQ(last[1], 0);
}

/* SDM 2A §2.3.11, vol. 2A LOCK. */
TEST(bad_prefixes_fault)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90"); /* 16 bytes */
    go(c, 10);
    CHECK_EQ(vector_at(c), EXC_GP);
    c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xF0\x01\xC8"); /* lock add eax,ecx */
    go(c, 10);
    CHECK_EQ(vector_at(c), EXC_UD);
}

/* mov cx,50; 1: inc ax; loop 1b; hlt, in a segment that begins inside a page, at a high offset too */
TEST(real_mode_runs_in_segments_that_begin_inside_a_page)
{
    struct cpu *c = machine(REAL);
    CHECK(c != NULL);
    PUT(c, 0x7C00, "\xB9\x32\x00\x40\xE2\xFD\xF4");
    cpu_set_segment_real(c, SEG_CS, 0x7C0);
    cpu_update_mode(c);
    c->rip = 0;
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 50);
    CHECK_EQ(c->rip, 7);
    c->halted = false;
    c->gpr[GPR_RAX] = 0;
    cpu_set_segment_real(c, SEG_CS, 0);
    cpu_update_mode(c);
    c->rip = 0x7C00;
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 50);
    CHECK_EQ(c->rip, 0x7C07);
}

/* SDM 3A §5.3: fetching beyond the limit is #GP; vector 13 of the real-mode table leads to HLT. */
TEST(the_code_segments_limit_is_kept)
{
    struct cpu *c = machine(REAL);
    CHECK(c != NULL);
    mem_st(c->emu, EXC_GP * 4, 0x0600, 4);
    PUT(c, 0x0600, "\xF4");
    PUT(c, 0xFFFE, "\x90\xB8\x34\x12"); /* nop; mov ax,.. over the end */
    c->rip = 0xFFFE;
    CHECK(finish(c));
    CHECK_EQ(c->rip, 0x0601);
    CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP] & 0xFFFF, 2), 0xFFFF);
}

/* mov ecx,200; 1: inc rax; dec ecx; jnz 1b; hlt */
TEST(breakpoints_stop_hot_loops_each_time)
{
    struct cpu *c = machine(LONG);
    struct breakpoint b;
    unsigned hits = 0;
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\xC8\x00\x00\x00\x48\xFF\xC0\xFF\xC9\x75\xF9\xF4");
    go(c, 301);
    memset(&b, 0, sizeof b);
    b.va = CODE + 8;
    b.size = 1;
    CHECK_EQ(cpu_breakpoint_set(c->emu, &b, true), 0);
    while (go(c, 100000) == CPU_EXIT_BREAKPOINT && hits < 300) {
        CHECK_EQ(c->rip, CODE + 8);
        hits++;
    }
    CHECK_EQ(hits, 100);
    CHECK_EQ(cpu_breakpoint_set(c->emu, &b, false), 0);
    CHECK_EQ(c->gpr[GPR_RAX], 200);
}

/* 1: inc rax; jmp 1b */
TEST(requests_end_a_run_soon)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x48\xFF\xC0\xEB\xFB");
    go(c, 100000);
    c->emu->requests = REQ_BREAK;
    CHECK_EQ(go(c, 1000000), CPU_EXIT_REQUEST);
    CHECK(c->icount <= 100000 + 50000);
    c->emu->requests = 0;
}

/* Code in a device's page, and code that a map change moves. */
TEST(code_runs_from_io_and_follows_the_memory_map)
{
    struct cpu *c = machine(LONG);
    struct region alias;
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x90\x01\x00\x00\xFF\xD2\xFF\xC9\x75\xFA\xF4");
    PUT(c, 0x9000, "\x48\x83\xC0\x05\xC3");
    PUT(c, 0xB000, "\x48\x83\xC0\x07\xC3");
    c->gpr[GPR_RDX] = 0x9000;
    go(c, 1 + 200 * 5);
    region_init_ram(&alias, "alias", c->emu->ram, 0xB000, 0x1000);
    CHECK_EQ(region_add(c->emu, &c->emu->memory, &alias, 0x9000, 20), 0);
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 1000 + 200 * 7);
    region_remove(c->emu, &c->emu->memory, &alias);
    c->halted = false; /* the device reads 1, 2, 3 ...: 01 00 is add [rax],eax */
    c->gpr[GPR_RAX] = DATA;
    c->rip = IO;
    go(c, 1);
    CHECK_EQ(c->rip, IO + 2);
}

/* More traces than the cache holds: each of 4000 pages gets code and is run, twice. */
TEST(a_full_trace_cache_is_emptied_and_refilled)
{
    struct cpu *c = machine(LONG);
    unsigned pass, page;
    uint64_t sum = 0;
    CHECK(c != NULL);
    for (page = 0x300; page < 0xE00; page++) {
        uint8_t code[] = { 0x48, 0x05, 0, 0, 0, 0, 0xF4 }; /* add rax,page; hlt */
        st32le(code + 2, page);
        poke(c, (uint64_t)page << 12 | (page & 0x7FF), code, sizeof code);
    }
    for (pass = 0; pass < 2; pass++)
        for (page = 0x300; page < 0xE00; page++) {
            c->rip = (uint64_t)page << 12 | (page & 0x7FF);
            c->halted = false;
            go(c, 1000);
            sum += page;
            CHECK_EQ(c->gpr[GPR_RAX], sum);
        }
    trace_flush_all(c->emu);
    c->rip = 0x300300;
    c->halted = false;
    go(c, 1000);
    CHECK_EQ(c->gpr[GPR_RAX], sum + 0x300);
}

/* Runs of pushes, pops and moves, behind no-ops and jumps that do nothing, leave and go on at the right places: every stop is compared with
 * a machine that steps. The stack crosses a page at each place of the runs.
 * mov ecx,N; 1: nop; jmp 2f; nop; nop; 2: nop; push rbx, rbp, r12-r15; nop; mov rbx,rbp; mov rbp,rsi; mov rsi,rdi; mov rdi,rbx; inc rbx;
 * pop r15, r14, r13, r12, rbp, rdi; nop; push rax, rbx; pop rbx, rax; add rdi,1; dec ecx; jnz 1b; hlt */
TEST(runs_of_pushes_pops_and_moves_equal_single_steps)
{
    static const char code[] = "\xB9\x2C\x01\x00\x00\x90\xEB\x02\x90\x90\x66\x90\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57"
                               "\x90\x48\x89\xEB\x48\x89\xF5\x48\x89\xFE\x48\x89\xDF\x48\xFF\xC3"
                               "\x41\x5F\x41\x5E\x41\x5D\x41\x5C\x5D\x5F\x90\x50\x53\x5B\x58\x48\x83\xC7\x01\xFF\xC9\x75\xC8\xF4";
    static const int64_t budgets[] = { 1, 67, 70, 71, 72, 73, 90, 101, 333, 2000 };
    static struct {
        uint64_t count, rip, gpr[16];
    } stop[1000];
    unsigned place, k, r;
    for (place = 0; place < 8; place++) {
        unsigned stops = 0, pass;
        uint8_t stack[256];
        for (pass = 0; pass < 2; pass++) { /* one machine after the other: they share their regions */
            struct cpu *c = machine(LONG);
            CHECK(c != NULL);
            PUT(c, CODE, code);
            for (r = 0; r < 16; r++)
                c->gpr[r] = UINT64_C(0x1111111111111111) * r;
            c->gpr[GPR_RSP] = STACK + 8 * place;
            for (k = 0; pass ? k < stops : !c->halted; k++) {
                if (pass == 0) {
                    CHECK(k < EMU_ARRAY_LEN(stop));
                    go(c, budgets[k % EMU_ARRAY_LEN(budgets)]);
                    stop[k].count = c->icount;
                    stop[k].rip = c->rip;
                    memcpy(stop[k].gpr, c->gpr, sizeof stop[k].gpr);
                    stops = k + 1;
                } else {
                    while (c->icount < stop[k].count)
                        cpu_step(c);
                    CHECK_EQ(c->rip, stop[k].rip);
                    CHECK(!memcmp(c->gpr, stop[k].gpr, sizeof stop[k].gpr));
                }
            }
            if (pass == 0)
                memcpy(stack, c->emu->ram->bytes + STACK - 128, sizeof stack);
            else
                CHECK(c->halted && !memcmp(c->emu->ram->bytes + STACK - 128, stack, sizeof stack));
        }
    }
}

/* mov ecx,1000; 1: sub rsp,48; pop rbx, rbp, r12-r15; dec ecx; jnz 1b; add rsp,rax; inc ecx; jmp 1b: the last round pops past the end
 * of the mapped stack. */
TEST(a_fault_inside_a_run_of_pops_is_that_instructions)
{
    static const char code[] = "\xB9\xE8\x03\x00\x00\x48\x83\xEC\x30\x5B\x5D\x41\x5C\x41\x5D\x41\x5E\x41\x5F\xFF\xC9\x75\xEE\x48\x01\xC4\xFF\xC1\xEB\xE7";
    static const unsigned at[] = { 9, 10, 11, 13, 15, 17 };
    unsigned k, n;
    for (k = 0; k < 6; k++) {
        struct cpu *c = machine(LONG);
        CHECK(c != NULL);
        PUT(c, CODE, code);
        poke64(c, PT + (STACK >> 12) * 8, 0); /* the page above the stack */
        c->gpr[GPR_RSP] = STACK - 64;
        c->gpr[GPR_RAX] = 64 + 48 - 8 * k; /* then k pops are left in the page */
        for (n = 0; n < 8; n++)
            poke64(c, STACK - 64 + 8 * n, 0x100 + n);
        CHECK(finish(c));
        CHECK_EQ(vector_at(c), EXC_PF);
        CHECK_EQ(c->cr2, STACK);
        CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP] + 8, 8), CODE + at[k]);
        CHECK_EQ(c->icount, 1 + 9 * 1000 + 3 + 1 + k + 1); /* the handler's HLT, too */
    }
}

/* mov ecx,400; 1: call f; add rax,1; add rbx,1; dec ecx; jnz 1b; hlt. f: test cl,1; jz 2f; add qword [rsp],4; 2: ret */
TEST(a_return_goes_where_the_stack_says_not_where_its_call_was)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x90\x01\x00\x00\xE8\xF6\x00\x00\x00\x48\x83\xC0\x01\x48\x83\xC3\x01\xFF\xC9\x75\xEF\xF4");
    PUT(c, CODE + 0x100, "\xF6\xC1\x01\x74\x05\x48\x83\x04\x24\x04\xC3");
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 200);
    CHECK_EQ(c->gpr[GPR_RBX], 400);
}

/* mov ecx,2000; 1: call f; add rax,1; dec ecx; jnz 1b; hlt. f: test cl,31; jnz 2f; mov [rsi],cl; 2: ret. rsi: the 1 of the addition */
TEST(code_that_a_call_changes_behind_itself_is_what_its_return_finds)
{
    struct cpu *c = machine(LONG);
    uint64_t expect = 0, step = 1;
    unsigned k;
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\xD0\x07\x00\x00\xE8\xF6\x00\x00\x00\x48\x83\xC0\x01\xFF\xC9\x75\xF3\xF4");
    PUT(c, CODE + 0x100, "\xF6\xC1\x1F\x75\x02\x88\x0E\xC3");
    c->gpr[GPR_RSI] = CODE + 13;
    for (k = 2000; k; k--) {
        if (!(k & 31))
            step = (uint64_t)sext64(k, 8);
        expect += step;
    }
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], expect);
}

/* A page with a CALL as its last bytes, mapped twice with another page behind each: mov ecx,400; 1: call r8; call r9; dec ecx; jnz 1b; hlt */
TEST(a_return_into_the_next_page_follows_that_pages_mapping)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x90\x01\x00\x00\x41\xFF\xD0\x41\xFF\xD1\xFF\xC9\x75\xF6\xF4");
    PUT(c, 0xD100, "\xC3");
    PUT(c, 0xDFFB, "\xE8\x00\xF1\xFF\xFF");
    PUT(c, 0xE000, "\x48\x83\xC0\x01\xC3");
    PUT(c, 0xF000, "\x48\x83\xC3\x01\xC3");
    poke64(c, PT + 0x400 * 8, 0xD000 | 7);
    poke64(c, PT + 0x401 * 8, 0xF000 | 7);
    c->gpr[GPR_R8] = 0xDFFB;
    c->gpr[GPR_R9] = 0x400FFB;
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 400);
    CHECK_EQ(c->gpr[GPR_RBX], 400);
}

/* mov ecx,100; 1: mov edi,40; call f; dec ecx; jnz 1b; hlt. f: dec edi; jz 2f; call f; add rax,1; 2: ret */
TEST(calls_deeper_than_what_is_remembered_of_them_return)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xB9\x64\x00\x00\x00\xBF\x28\x00\x00\x00\xE8\xF1\x00\x00\x00\xFF\xC9\x75\xF2\xF4");
    PUT(c, CODE + 0x100, "\xFF\xCF\x74\x09\xE8\xF7\xFF\xFF\xFF\x48\x83\xC0\x01\xC3");
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RAX], 3900);
    CHECK_EQ(c->gpr[GPR_RSP], STACK);
}

/* A handler of #DB that counts in R15, lets the instruction at its breakpoint pass (RF) and goes back: inc r15; bts dword [rsp+16],16; iretq */
static void count_debug_traps(struct cpu *c) { PUT(c, HANDLERS + 16, "\x49\xFF\xC7\x0F\xBA\x6C\x24\x10\x10\x48\xCF"); }

/* rep movsb; hlt. SDM 3B 17.3.1.1: RF stays until the whole instruction is done. */
TEST(a_breakpoint_on_a_repeated_string_instruction_is_reported_once)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xF3\xA4\xF4");
    count_debug_traps(c);
    c->gpr[GPR_RCX] = 100;
    c->gpr[GPR_RSI] = DATA;
    c->gpr[GPR_RDI] = DATA + 0x1000;
    c->dr[0] = CODE;
    c->dr[7] = 0x401;
    cpu_update_mode(c);
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_R15], 1);
    CHECK_EQ(c->gpr[GPR_RCX], 0);
    CHECK_EQ(c->rip, CODE + 3);
}

/* rep insw; hlt, with a breakpoint on the port (SDM 3B 17.3.1.3) */
TEST(a_breakpoint_on_a_port_sees_string_input)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xF3\x66\x6D\xF4");
    c->gpr[GPR_RCX] = 2;
    c->gpr[GPR_RDX] = 0x1F0;
    c->gpr[GPR_RDI] = DATA;
    c->cr4 |= CR4_DE;
    c->dr[0] = 0x1F0;
    c->dr[7] = 1 | 2 << 16;
    cpu_update_mode(c);
    CHECK(finish(c));
    CHECK_EQ(vector_at(c), EXC_DB);
    CHECK_EQ(c->gpr[GPR_RCX], 1);
}

/* FMASK clears TF: the kernel's entry, still on the user's stack, is not trapped at. syscall, at 9000h: hlt */
TEST(a_single_step_over_syscall_does_not_trap_in_the_kernel)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x0F\x05");
    PUT(c, 0x9000, "\x90\xF4");
    c->star = UINT64_C(8) << 32;
    c->lstar = 0x9000;
    c->fmask = FLAG_TF;
    c->efer |= EFER_SCE;
    c->eflags |= FLAG_TF;
    CHECK(finish(c));
    CHECK_EQ(c->rip, 0x9002);
    CHECK_EQ(c->gpr[GPR_RCX], CODE + 2);
    CHECK(c->gpr[GPR_R11] & FLAG_TF);
}

/* sti; nop; hlt with TF: only MOV SS and POP SS hold a trap back (SDM 3A 6.8.3) */
TEST(a_single_step_traps_right_after_sti)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xFB\x90\xF4");
    c->eflags |= FLAG_TF;
    CHECK(finish(c));
    CHECK_EQ(vector_at(c), EXC_DB);
    CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP], 8), CODE + 1);
}

/* SDM 3A 6.7.1: until IRET no NMI comes through, so it wakes nobody either. */
TEST(an_nmi_that_is_blocked_does_not_wake_a_halted_cpu)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\xF4");
    CHECK(finish(c));
    c->nmi_blocked = true;
    cpu_set_interrupt(c, CPU_INT_NMI, true);
    CHECK(!cpu_can_run(c));
    c->nmi_blocked = false;
    CHECK(cpu_can_run(c));
}

/* xrstor [rbx] with mask 6 at 64 bits: what is not asked for stays whole (SDM 1 13.8), FIP and FDP above 32 bits and the selectors too */
TEST(xrstor_without_the_x87_part_leaves_its_pointers)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x0F\xAE\x2B\x48\x0F\xAE\x2B\xF4");
    c->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
    c->xcr0 = 7;
    cpu_update_mode(c);
    c->gpr[GPR_RAX] = 6;
    c->gpr[GPR_RBX] = DATA;
    c->x87_ip = UINT64_C(0x123456789ABC);
    c->x87_dp = UINT64_C(0x23456789ABCD);
    c->x87_cs = 0x33;
    c->x87_ds = 0x2B;
    CHECK(finish(c));
    CHECK_EQ(c->rip, CODE + 8);
    CHECK_EQ(c->x87_ip, UINT64_C(0x123456789ABC));
    CHECK_EQ(c->x87_dp, UINT64_C(0x23456789ABCD));
    CHECK_EQ(c->x87_cs, 0x33);
    CHECK_EQ(c->x87_ds, 0x2B);
}

/* mov [rbx],rax to a read-only user page whose key forbids stores, too: the error code says both (SDM 3A 4.7) */
TEST(a_page_fault_names_the_protection_key_beside_other_rights)
{
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, "\x48\x89\x03\xF4");
    poke64(c, PT + (DATA >> 12) * 8, DATA | 5 | UINT64_C(1) << 59);
    c->cr0 |= CR0_WP;
    c->cr4 |= CR4_PKE;
    c->pkru = 8;
    cpu_update_mode(c);
    c->gpr[GPR_RBX] = DATA;
    CHECK(finish(c));
    CHECK_EQ(vector_at(c), EXC_PF);
    CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP], 8), 0x23);
}

EMU_PRIV void trace_set_plain(struct emu *e, bool plain); /* of cpu/uop.h, whose macros have the names of ours */

/* Runs code on two machines, by traces and by single steps in plain C; before each run prepare(c). */
static bool traces_equal_single_steps(const char *code, size_t size, void (*prepare)(struct cpu *c))
{
    enum { LOOK = 0x10000 };
    static uint8_t memory[LOOK];
    uint64_t gpr[16], count = 0;
    unsigned pass;
    for (pass = 0; pass < 2; pass++) {
        struct cpu *c = machine(LONG);
        if (!c)
            return false;
        poke(c, CODE, code, size);
        prepare(c);
        trace_set_plain(c->emu, pass == 1);
        if (pass == 0) {
            if (!finish(c))
                return false;
            count = c->icount;
            memcpy(gpr, c->gpr, sizeof gpr);
            memcpy(memory, c->emu->ram->bytes + DATA, LOOK);
        } else {
            while (c->icount < count)
                cpu_step(c);
            if (!c->halted || memcmp(c->gpr, gpr, sizeof gpr) || memcmp(c->emu->ram->bytes + DATA, memory, LOOK))
                return false;
        }
    }
    return true;
}
static void prepare_data(struct cpu *c)
{
    unsigned k;
    for (k = 0; k < 0x10000; k++)
        c->emu->ram->bytes[DATA + k] = (uint8_t)(k * 7 ^ k >> 8);
    c->gpr[GPR_RBX] = DATA + 0x1000;
    c->gpr[GPR_RBP] = DATA + 0x8000;
    c->gpr[GPR_RAX] = UINT64_C(0x0123456789ABCDEF);
    c->gpr[GPR_RSI] = UINT64_C(0x8123456789ABCDEF);
}

/* Counts of 0 and more, overlapping copies, across pages, backward:
 * mov r15d,1000; 1: ecx = r15d & 31; mov rdi,rbx; rep stosq; ecx = r15d & 63; lea rdi,[rbx+3]; mov rsi,rbp; rep movsb; ecx = r15d & 15; mov rsi,rbx;
 * lea rdi,[rbx+8]; rep movsq; ecx = r15d & 7; lea rdi,[rbx+1]; rep stosd; std; mov ecx,3; rep stosb; cld; add rbx,24; add rbp,13; add rax,rdi; dec r15d;
 * jnz 1b; hlt */
TEST(repeated_strings_in_hot_traces_equal_single_steps)
{
    static const char code[] = "\x41\xBF\xE8\x03\x00\x00\x44\x89\xF9\x83\xE1\x1F\x48\x89\xDF\xF3\x48\xAB\x44\x89\xF9\x83\xE1\x3F\x48\x8D\x7B\x03\x48\x89\xEE"
                               "\xF3\xA4\x44\x89\xF9\x83\xE1\x0F\x48\x89\xDE\x48\x8D\x7B\x08\xF3\x48\xA5\x44\x89\xF9\x83\xE1\x07\x48\x8D\x7B\x01\xF3\xAB\xFD"
                               "\xB9\x03\x00\x00\x00\xF3\xAA\xFC\x48\x83\xC3\x18\x48\x83\xC5\x0D\x48\x01\xF8\x41\xFF\xCF\x75\xB0\xF4";
    CHECK(traces_equal_single_steps(code, sizeof code - 1, prepare_data));
}

/* BT and the like leave all flags but CF:
 * mov r15d,1000; 1: cmp rax,rsi; bt rax,r15; pushf; pop r8; add r9,r8; bts [rbx],r15; jc 2f; add r10,[rbx]; 2: jo 3f; add r11,[rbx]; 3: test rax,rax;
 * btr esi,r15d; pushf; pop r8; xor r12,r8; rol r12,1; bt dword [rbx],5; pushf; pop r8; add r13,r8; shr rdx,3; btc eax,7; jc 4f; add r14,[rbx];
 * 4: js 5f; add r14,3; 5: add rax,12345679h; imul rdx,rax,77; xor rsi,rdx; dec r15d; jnz 1b; hlt */
TEST(bit_tests_in_hot_traces_keep_the_other_flags)
{
    static const char code[] = "\x41\xBF\xE8\x03\x00\x00\x48\x39\xF0\x4C\x0F\xA3\xF8\x9C\x41\x58\x4D\x01\xC1\x4C\x0F\xAB\x3B\x72\x03\x4C\x03\x13\x70\x03\x4C\x03"
                               "\x1B\x48\x85\xC0\x44\x0F\xB3\xFE\x9C\x41\x58\x4D\x31\xC4\x49\xD1\xC4\x0F\xBA\x23\x05\x9C\x41\x58\x4D\x01\xC5\x48\xC1\xEA\x03\x0F"
                               "\xBA\xF8\x07\x72\x03\x4C\x03\x33\x78\x04\x49\x83\xC6\x03\x48\x05\x79\x56\x34\x12\x48\x6B\xD0\x4D\x48\x31\xD6\x41\xFF\xCF\x75\xA6"
                               "\xF4";
    CHECK(traces_equal_single_steps(code, sizeof code - 1, prepare_data));
}

/* 1: mov ecx,5; rep stosq; jmp 1b, up to a page that is not mapped: registers tell of the element that failed */
TEST(a_fault_of_a_repeated_store_in_a_hot_trace_is_at_its_element)
{
    unsigned skew;
    for (skew = 0; skew < 8; skew += 4) {
        struct cpu *c = machine(LONG);
        uint64_t done = (0x3000 - skew) / 8;
        CHECK(c != NULL);
        PUT(c, CODE, "\xB9\x05\x00\x00\x00\xF3\x48\xAB\xEB\xF6");
        poke64(c, PT + ((DATA + 0x3000) >> 12) * 8, 0);
        c->gpr[GPR_RDI] = DATA + skew;
        c->gpr[GPR_RAX] = UINT64_C(0x1122334455667788);
        CHECK(finish(c));
        CHECK_EQ(vector_at(c), EXC_PF);
        CHECK_EQ(c->cr2, DATA + 0x3000);
        CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP] + 8, 8), CODE + 5);
        CHECK_EQ(c->gpr[GPR_RDI], DATA + skew + 8 * done);
        CHECK_EQ(c->gpr[GPR_RCX], 5 - done % 5);
        CHECK_EQ(mem_ld(c->emu, DATA + skew + 8 * (done - 1), 8), UINT64_C(0x1122334455667788));
        CHECK_EQ(c->icount, done / 5 * 3 + 1 + 1); /* the handler's HLT, too */
    }
}

/* mov r15d,300; 1: lea rdi,[rip+10]; mov ecx,1; rep stosb; xor al,1; inc edx, or ebx; dec r15d; jnz 1b; hlt */
TEST(a_repeated_store_into_the_next_instruction_takes_effect)
{
    static const char code[] = "\x41\xBF\x2C\x01\x00\x00\x48\x8D\x3D\x0A\x00\x00\x00\xB9\x01\x00\x00\x00\xF3\xAA\x34\x01\xFF\xC2\x41\xFF\xCF\x75\xE9\xF4";
    struct cpu *c = machine(LONG);
    CHECK(c != NULL);
    PUT(c, CODE, code);
    c->gpr[GPR_RAX] = 0xC2;
    c->gpr[GPR_RDX] = c->gpr[GPR_RBX] = 0;
    CHECK(finish(c));
    CHECK_EQ(c->gpr[GPR_RDX], 150);
    CHECK_EQ(c->gpr[GPR_RBX], 150);
}

/* mov ecx,1000; 1: stac; add eax,[rbx]; clac; dec ecx; jnz 1b; stac; jmp 2f; 2: clac; nop; add eax,[rbx]; hlt: RBX in a user page */
TEST(stac_and_clac_in_hot_traces_open_and_close_user_pages)
{
    static const char code[] = "\xB9\xE8\x03\x00\x00\x0F\x01\xCB\x03\x03\x0F\x01\xCA\xFF\xC9\x75\xF4\x0F\x01\xCB\xEB\x00\x0F\x01\xCA\x90\x03\x03\xF4";
    unsigned smap, v;
    for (smap = 0; smap < 2; smap++) {
        struct cpu *c = machine(LONG);
        CHECK(c != NULL);
        PUT(c, CODE, code);
        for (v = 0; v < 256; v++)
            poke64(c, PT + v * 8, (uint64_t)v << 12 | 3);
        poke64(c, DATA, 1);
        c->gpr[GPR_RBX] = DATA;
        c->gpr[GPR_RAX] = 0;
        c->cr4 |= smap ? CR4_SMAP : 0;
        cpu_update_mode(c);
        CHECK(finish(c));
        CHECK_EQ(c->gpr[GPR_RAX], smap ? 1000 : 1001);
        CHECK(!(c->eflags & FLAG_AC));
        if (smap) {
            CHECK_EQ(vector_at(c), EXC_PF);
            CHECK_EQ(c->cr2, DATA);
            CHECK_EQ(mem_ld(c->emu, c->gpr[GPR_RSP] + 8, 8), CODE + 26);
        }
        CHECK_EQ(c->icount, 1 + 5 * 1000 + 4 + (smap ? 1 : 2));
    }
}

/* Vectors from 30h on, automatic EOI. */
static bool add_pic(struct cpu *c)
{
    static const uint8_t icw[] = { 0x30, 4, 3 };
    struct device *d = emu_alloc(c->emu, pic_class.instance_size);
    struct err err;
    unsigned k;
    if (!d)
        return false;
    d->emu = c->emu;
    d->cls = &pic_class;
    if (pic_class.create(d, NULL, &err))
        return false;
    pic_class.reset(d);
    port_write(c->emu, 0x20, 0x11, 1);
    for (k = 0; k < 3; k++)
        port_write(c->emu, 0x21, icw[k], 1);
    port_write(c->emu, 0x21, 0xFD, 1);
    return true;
}

/* mov ecx,1000; 1: cli; mov [rbx],eax; inc edx; sti; inc esi; inc edi; cli; sti; jmp 3f; 3: dec ecx; jnz 1b; hlt. The store raises an interrupt, which waits
 * until one instruction after the first STI: ESI is one ahead of EDI. Its handler: mov ebp,esi; sub ebp,edi; add r8,rbp; add r9d,1; mov [rbx+4],eax; iretq */
TEST(an_interrupt_waits_from_cli_to_the_instruction_after_sti)
{
    static const char code[] = "\xB9\xE8\x03\x00\x00\xFA\x89\x03\xFF\xC2\xFB\xFF\xC6\xFF\xC7\xFA\xFB\xEB\x00\xFF\xC9\x75\xEE\xF4";
    static const char handler[] = "\x89\xF5\x29\xFD\x49\x01\xE8\x41\x83\xC1\x01\x89\x43\x04\x48\xCF";
    unsigned on;
    for (on = 0; on < 2; on++) {
        struct cpu *c = machine(LONG);
        CHECK(c != NULL);
        CHECK(add_pic(c));
        PUT(c, CODE, code);
        PUT(c, HANDLERS + 0x31 * 16, handler);
        c->gpr[GPR_RBX] = IO;
        c->gpr[GPR_RAX] = on ? 0x78 : 0;
        CHECK(finish(c));
        CHECK_EQ(c->gpr[GPR_RDX], 1000);
        CHECK_EQ(c->gpr[GPR_R9], on ? 1000 : 0);
        CHECK_EQ(c->gpr[GPR_R8], on ? 1000 : 0);
        CHECK_EQ(c->icount, 1 + 11 * 1000 + 1 + (on ? 6 * 1000 : 0));
    }
}

TEST_MAIN(TEST_CASE(a_breakpoint_on_a_repeated_string_instruction_is_reported_once), TEST_CASE(a_breakpoint_on_a_port_sees_string_input),
          TEST_CASE(a_single_step_over_syscall_does_not_trap_in_the_kernel), TEST_CASE(a_single_step_traps_right_after_sti),
          TEST_CASE(an_nmi_that_is_blocked_does_not_wake_a_halted_cpu), TEST_CASE(xrstor_without_the_x87_part_leaves_its_pointers),
          TEST_CASE(a_page_fault_names_the_protection_key_beside_other_rights),
          TEST_CASE(a_return_goes_where_the_stack_says_not_where_its_call_was), TEST_CASE(code_that_a_call_changes_behind_itself_is_what_its_return_finds),
          TEST_CASE(a_return_into_the_next_page_follows_that_pages_mapping), TEST_CASE(calls_deeper_than_what_is_remembered_of_them_return),
          TEST_CASE(runs_of_pushes_pops_and_moves_equal_single_steps), TEST_CASE(a_fault_inside_a_run_of_pops_is_that_instructions),
          TEST_CASE(budgets_are_exact_and_do_not_change_results), TEST_CASE(stepping_and_traces_reach_the_same_state),
          TEST_CASE(a_store_into_the_next_instruction_takes_effect), TEST_CASE(a_hot_loop_that_patches_itself_sees_it), TEST_CASE(dma_into_hot_code_is_noticed),
          TEST_CASE(code_follows_its_mapping), TEST_CASE(data_follows_its_mapping_after_invlpg), TEST_CASE(a_fault_in_a_hot_trace_finds_flags_and_count_exact),
          TEST_CASE(a_device_sees_the_exact_instruction_count), TEST_CASE(accesses_that_cross_pages_work_in_hot_traces),
          TEST_CASE(short_sums_with_operands_across_pages_or_from_devices_reach_their_registers),
          TEST_CASE(xadd_and_cmpxchg_in_hot_traces_also_across_pages), TEST_CASE(an_instruction_across_pages_follows_both_mappings), TEST_CASE(single_step_traps_after_every_instruction),
          TEST_CASE(an_interrupt_raised_by_a_store_is_taken_at_the_next_exit), TEST_CASE(string_instructions_make_progress_and_end), TEST_CASE(bad_prefixes_fault),
          TEST_CASE(real_mode_runs_in_segments_that_begin_inside_a_page), TEST_CASE(the_code_segments_limit_is_kept), TEST_CASE(breakpoints_stop_hot_loops_each_time),
          TEST_CASE(requests_end_a_run_soon), TEST_CASE(code_runs_from_io_and_follows_the_memory_map), TEST_CASE(a_full_trace_cache_is_emptied_and_refilled),
          TEST_CASE(repeated_strings_in_hot_traces_equal_single_steps),
          TEST_CASE(bit_tests_in_hot_traces_keep_the_other_flags),
          TEST_CASE(a_fault_of_a_repeated_store_in_a_hot_trace_is_at_its_element),
          TEST_CASE(a_repeated_store_into_the_next_instruction_takes_effect),
          TEST_CASE(stac_and_clac_in_hot_traces_open_and_close_user_pages),
          TEST_CASE(an_interrupt_waits_from_cli_to_the_instruction_after_sti))
