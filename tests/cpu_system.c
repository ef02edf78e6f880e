/* cpu_system.c - the system side of the CPU: paging, segments, gates, exceptions, tasks, control registers, MSRs.
 *
 * Each test sets up tables in the memory of a bare machine, puts one or a few instructions at the CPU's instruction pointer, runs them with the
 * real cpu_step(), and looks at registers and memory. Expectations cite the Intel SDM.
 */
#include "machine.h"
#include "cpu/cpu.h"
#include "test.h"

enum {
    GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, TSS2 = 0x3800, TSS3 = 0x3C00, LDT = 0x4000, HANDLERS = 0x6000, CODE = 0x8000, STACK = 0xA000, STACK0 = 0xC000, UCODE = 0x20000, USTACK = 0x30000,
    PML4 = 0x100000, DATA = 0x200000
};
/* Selectors of the GDT that both fixtures use. */
enum {
    SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_CODE3 = 0x18, SEL_DATA3 = 0x20, SEL_TSS = 0x28 /* 16 bytes in long mode */, SEL_CODE64 = 0x38, SEL_CODE64_3 = 0x40, SEL_RO = 0x48, SEL_CONF = 0x50,
    SEL_NP = 0x58, SEL_TSS2 = 0x60, SEL_GATE = 0x68 /* 16 bytes in long mode */, SEL_CODE16 = 0x78, SEL_DATA16 = 0x80, SEL_XONLY = 0x88, SEL_DOWN = 0x90, SEL_TASKGATE = 0x98, SEL_LDT = 0xA0,
    SEL_TSS3 = 0xB0, GDT_LIMIT = 0xBF
};

static struct region ram_region;

static void poke(struct cpu *c, uint64_t gpa, const void *p, size_t n) { mem_write(c->emu, gpa, p, n); }
static void poke32(struct cpu *c, uint64_t gpa, uint32_t v) { mem_st(c->emu, gpa, v, 4); }
static void poke64(struct cpu *c, uint64_t gpa, uint64_t v) { mem_st(c->emu, gpa, v, 8); }
static uint32_t peek32(struct cpu *c, uint64_t gpa) { return (uint32_t)mem_ld(c->emu, gpa, 4); }
static uint64_t peek64(struct cpu *c, uint64_t gpa) { return mem_ld(c->emu, gpa, 8); }
static uint32_t peek16(struct cpu *c, uint64_t gpa) { return (uint32_t)mem_ld(c->emu, gpa, 2); }

static struct cpu *bare_cpu_model(const char *model)
{
    static struct emu *last; /* one machine at a time: its traces are large */
    struct emu *e;
    struct cpu *c = NULL;
    struct err err;
    emu_destroy(last);
    last = e = emu_new(NULL);
    if (!e || clock_create(e) || memory_create(e, &err))
        return NULL;
    e->config.icount = true;
    e->config.cpu_model = emu_strdup(e, model);
    e->ram = ram_block_create(e, "ram", 16 * MIB, false, &err);
    if (!e->ram)
        return NULL;
    e->ram_below_4g = 16 * MIB;
    region_init_ram(&ram_region, "ram", e->ram, 0, 16 * MIB);
    if (region_add(e, &e->memory, &ram_region, 0, 0))
        return NULL;
    if (!e->cpus) {
        e->cpus = emu_alloc(e, sizeof *e->cpus);
        e->cpu_count = 1;
    }
    if (cpu_create(e, 0, &c, &err)) {
        printf("%s\n", err.text);
        return NULL;
    }
    e->cpus[0] = c;
    if (cpu_set_model(c, model, &err)) {
        printf("%s\n", err.text);
        return NULL;
    }
    cpu_reset(c, false);
    return c;
}
static struct cpu *bare_cpu(void) { return bare_cpu_model("max,la57=on,monitor=on"); }

static uint64_t descriptor(uint32_t base, uint32_t limit, unsigned attr) /* attr: bits 40-47 and 52-55 at 12-15 */
{
    return (limit & 0xFFFF) | (uint64_t)(base & 0xFFFFFF) << 16 | (uint64_t)(attr & 0xFF) << 40 | (uint64_t)((limit >> 16) & 15) << 48 | (uint64_t)(attr >> 12) << 52 | (uint64_t)(base >> 24) << 56;
}
static uint64_t gate(uint16_t selector, uint32_t offset, unsigned attr)
{
    return (offset & 0xFFFF) | (uint64_t)selector << 16 | (uint64_t)attr << 40 | (uint64_t)(offset >> 16) << 48;
}

static void set_gdt(struct cpu *c, unsigned sel, uint64_t d) { poke64(c, GDT + sel, d); }

static void common_gdt(struct cpu *c)
{
    set_gdt(c, SEL_CODE0, descriptor(0, 0xFFFFF, 0xC09B));
    set_gdt(c, SEL_DATA0, descriptor(0, 0xFFFFF, 0xC093));
    set_gdt(c, SEL_CODE3, descriptor(0, 0xFFFFF, 0xC0FB));
    set_gdt(c, SEL_DATA3, descriptor(0, 0xFFFFF, 0xC0F3));
    set_gdt(c, SEL_CODE64, descriptor(0, 0xFFFFF, 0xA09B));
    set_gdt(c, SEL_CODE64_3, descriptor(0, 0xFFFFF, 0xA0FB));
    set_gdt(c, SEL_RO, descriptor(0, 0xFFFFF, 0xC090));
    set_gdt(c, SEL_CONF, descriptor(0, 0xFFFFF, 0xC09E));
    set_gdt(c, SEL_NP, descriptor(0, 0xFFFFF, 0xC013));
    set_gdt(c, SEL_CODE16, descriptor(0, 0xFFFF, 0x009B));
    set_gdt(c, SEL_DATA16, descriptor(0, 0xFFFF, 0x0093));
    set_gdt(c, SEL_XONLY, descriptor(0, 0xFFFFF, 0xC098));
    set_gdt(c, SEL_DOWN, descriptor(0, 0xFFF, 0x4096)); /* expand-down, big: valid above 0xFFF */
    c->idtr.base = IDT;
    c->idtr.limit = 0xFFF;
}

/* 32-bit protected mode at CPL 0, no paging. Handler of vector v: HANDLERS + 16 v (32-bit interrupt gate, DPL 0; 3 and 0x80: DPL 3). */
static struct cpu *prot32_model(const char *model)
{
    struct cpu *c = bare_cpu_model(model);
    struct cpu_boot b;
    unsigned v;
    if (!c)
        return NULL;
    memset(&b, 0, sizeof b);
    b.kind = CPU_BOOT_PROT32;
    b.cs = SEL_CODE0;
    b.ds = b.es = b.ss = SEL_DATA0;
    b.rip = CODE;
    b.gpr[GPR_RSP] = STACK;
    b.gdt_base = GDT;
    b.gdt_limit = GDT_LIMIT;
    cpu_load_boot_state(c, &b);
    common_gdt(c);
    for (v = 0; v < 256; v++)
        poke64(c, IDT + v * 8, gate(SEL_CODE0, HANDLERS + v * 16, v == 3 || v == 4 || v == 0x80 ? 0xEE : 0x8E));
    set_gdt(c, SEL_TSS, descriptor(TSS, 0x7FF, 0x008B));
    set_gdt(c, SEL_TSS2, descriptor(TSS2, 0x67, 0x0089));
    set_gdt(c, SEL_TSS3, descriptor(TSS3, 0x2B, 0x0081));
    set_gdt(c, SEL_LDT, descriptor(LDT, 0xFF, 0x0082));
    c->seg[SEG_TR].selector = SEL_TSS;
    c->seg[SEG_TR].base = TSS;
    c->seg[SEG_TR].limit = 0x7FF;
    c->seg[SEG_TR].attr = 0x8B;
    poke32(c, TSS + 4, STACK0);
    poke32(c, TSS + 8, SEL_DATA0);
    mem_st(c->emu, TSS + 0x66, 0x68, 2); /* I/O bitmap: all ones beyond 0x68 unless a test clears some */
    for (v = 0x68; v < 0x800; v++)
        mem_st(c->emu, TSS + v, 0xFF, 1);
    return c;
}
static struct cpu *prot32(void) { return prot32_model("max"); }

/* 64-bit mode at CPL 0: first 16 MiB mapped one to one by 4 KiB pages below one page table tree (user, writable). */
enum { PDPT = PML4 + 0x1000, PD = PML4 + 0x2000, PT = PML4 + 0x3000 /* eight tables: 16 MiB */ };
static struct cpu *long64_model(const char *model)
{
    struct cpu *c = bare_cpu_model(model);
    struct cpu_boot b;
    unsigned v;
    if (!c)
        return NULL;
    poke64(c, PML4, PDPT | 7);
    poke64(c, PDPT, PD | 7);
    for (v = 0; v < 8; v++)
        poke64(c, PD + v * 8, (PT + v * 0x1000) | 7);
    for (v = 0; v < 4096; v++)
        poke64(c, PT + v * 8, (uint64_t)v << 12 | 7);
    memset(&b, 0, sizeof b);
    b.kind = CPU_BOOT_LONG64;
    b.cs = SEL_CODE64;
    b.ds = b.es = b.ss = SEL_DATA0;
    b.rip = CODE;
    b.cr3 = PML4;
    b.gpr[GPR_RSP] = STACK;
    b.gdt_base = GDT;
    b.gdt_limit = GDT_LIMIT;
    cpu_load_boot_state(c, &b);
    c->efer |= EFER_NXE | EFER_SCE;
    common_gdt(c);
    for (v = 0; v < 256; v++) {
        poke64(c, IDT + v * 16, gate(SEL_CODE64, HANDLERS + v * 16, v == 3 || v == 0x80 ? 0xEE : 0x8E));
        poke64(c, IDT + v * 16 + 8, 0);
    }
    set_gdt(c, SEL_TSS, descriptor(TSS, 0x7FF, 0x008B));
    set_gdt(c, SEL_TSS + 8, 0);
    c->seg[SEG_TR].selector = SEL_TSS;
    c->seg[SEG_TR].base = TSS;
    c->seg[SEG_TR].limit = 0x7FF;
    c->seg[SEG_TR].attr = 0x8B;
    poke64(c, TSS + 4, STACK0);
    poke64(c, TSS + 36, STACK0 + 0x1000); /* IST1 */
    mem_st(c->emu, TSS + 0x66, 0x68, 2);
    for (v = 0x68; v < 0x800; v++)
        mem_st(c->emu, TSS + v, 0xFF, 1);
    return c;
}
static struct cpu *long64(void) { return long64_model("max,la57=on,monitor=on"); }

/* Makes the CPU a user program (CPL 3) of the width it has. */
static void to_user(struct cpu *c)
{
    bool wide = c->mode == MODE_LONG;
    c->seg[SEG_CS].selector = wide ? SEL_CODE64_3 | 3 : SEL_CODE3 | 3;
    c->seg[SEG_CS].attr |= SEG_DPL;
    c->seg[SEG_SS].selector = c->seg[SEG_DS].selector = c->seg[SEG_ES].selector = SEL_DATA3 | 3;
    c->seg[SEG_SS].attr |= SEG_DPL;
    c->seg[SEG_DS].attr |= SEG_DPL;
    c->seg[SEG_ES].attr |= SEG_DPL;
    c->seg[SEG_FS] = c->seg[SEG_GS] = c->seg[SEG_DS];
    c->cpl = 3;
    c->rip = UCODE;
    c->gpr[GPR_RSP] = USTACK;
    c->eflags |= FLAG_IF;
    cpu_update_mode(c);
}

/* Puts the bytes where CS:RIP points and executes n instructions (a fault's delivery counts as one). */
static void run(struct cpu *c, unsigned n, const char *bytes, size_t size)
{
    uint64_t va = (c->mode == MODE_LONG ? 0 : c->seg[SEG_CS].base) + c->rip, gpa;
    if (cpu_debug_translate(c, va, &gpa))
        poke(c, gpa, bytes, size);
    while (n--)
        cpu_step(c);
}
#define RUN(c, n, bytes) run(c, n, bytes, sizeof(bytes) - 1)
#define RUN1(c, bytes) RUN(c, 1, bytes)
static unsigned vector_at(const struct cpu *c) { return c->rip >= HANDLERS && c->rip < HANDLERS + 0x1000 ? (unsigned)(c->rip - HANDLERS) / 16 : 0xFFF; }
#define CHECK_VECTOR(c, v) CHECK_EQ(vector_at(c), v)
static uint64_t top(struct cpu *c, unsigned slot) /* word of the present stack, by mode */
{
    unsigned size = c->mode == MODE_LONG ? 8 : 4;
    return mem_ld(c->emu, c->gpr[GPR_RSP] + slot * size, size);
}
static void done(struct cpu *c)
{
    struct emu *e = c->emu;
    (void)e; /* the process ends soon; destroy paths have tests of their own */
}

/* ---------------------------------------------------------------- reset and modes */

/* SDM 3A table 10-1. */
TEST(reset_state_is_the_manuals)
{
    struct cpu *c = bare_cpu();
    CHECK(c != NULL);
    CHECK_EQ(c->rip, 0xFFF0);
    CHECK_EQ(c->seg[SEG_CS].selector, 0xF000);
    CHECK_EQ(c->seg[SEG_CS].base, 0xFFFF0000u);
    CHECK_EQ(c->cr0, 0x60000010);
    CHECK_EQ(cpu_eflags(c), 2);
    CHECK_EQ(c->gpr[GPR_RDX], c->signature);
    CHECK_EQ(c->dr[6], 0xFFFF0FF0u);
    CHECK_EQ(c->dr[7], 0x400);
    CHECK_EQ(c->idtr.limit, 0xFFFF);
    CHECK_EQ(c->mode, MODE_REAL);
    CHECK_EQ(c->code_size, 2);
    c->cr0 &= ~(uint64_t)CR0_CD;
    c->mtrr[0] = 0xC06;
    cpu_reset(c, true); /* INIT keeps CR0.CD/NW and MTRRs */
    CHECK_EQ(c->cr0, 0x20000010);
    CHECK_EQ(c->mtrr[0], 0xC06);
    done(c);
}

/* SDM 3A 9.9.1: LMSW or MOV CR0 sets PE; the hidden parts of segments stay until they are loaded ("unreal" mode on the way back). */
TEST(unreal_mode_keeps_limits)
{
    struct cpu *c = prot32();
    uint64_t v;
    RUN1(c, "\x8E\xD8"); /* mov ds, ax with ax = 0 would be null: set it first */
    c->gpr[GPR_RAX] = SEL_DATA0;
    RUN1(c, "\x8E\xD8");
    c->gpr[GPR_RAX] = c->cr0 & ~(uint64_t)CR0_PE;
    RUN1(c, "\x0F\x22\xC0");
    CHECK_EQ(c->mode, MODE_REAL);
    CHECK_EQ(cpu_load(c, SEG_DS, 0x123456, 4, &v), CPU_OK);
    c->gpr[GPR_RAX] = 0x50;
    RUN1(c, "\x8E\xD8"); /* real mode load: base changes, limit stays */
    CHECK_EQ(c->seg[SEG_DS].base, 0x500);
    CHECK_EQ(c->seg[SEG_DS].limit, 0xFFFFFFFFu);
    done(c);
}

/* A whole guest program: real mode to protected to 64-bit mode (SDM 3A 9.8.5), by hand-assembled code. */
TEST(guest_program_goes_from_real_to_long_mode)
{
    static const char code[] = /* at 0:7C00, 16-bit */
        "\xFA"                             /* cli */
        "\x0F\x01\x16\x80\x7C"             /* lgdt [7C80] */
        "\x0F\x20\xC0\x66\x83\xC8\x01"     /* mov eax, cr0; or eax, 1 */
        "\x0F\x22\xC0"                     /* mov cr0, eax */
        "\xEA\x20\x7C\x08\x00"             /* jmp 8:7C20 */
        ;
    static const char code32[] = /* at 7C20, 32-bit */
        "\x66\xB8\x10\x00\x8E\xD8\x8E\xD0"         /* mov ax, 10; mov ds, ax; mov ss, ax */
        "\x0F\x20\xE0\x83\xC8\x20\x0F\x22\xE0"     /* cr4 |= PAE */
        "\xB8\x00\x00\x10\x00\x0F\x22\xD8"         /* cr3 = PML4 */
        "\xB9\x80\x00\x00\xC0\x0F\x32\x0D\x00\x01\x00\x00\x0F\x30" /* EFER |= LME */
        "\x0F\x20\xC0\x0D\x00\x00\x00\x80\x0F\x22\xC0" /* cr0 |= PG */
        "\xEA\x60\x7C\x00\x00\x38\x00"             /* jmp 38:7C60 */
        ;
    static const char code64[] = /* at 7C60 */
        "\x48\xB8\xEF\xCD\xAB\x89\x67\x45\x23\x01" /* mov rax, 0123456789ABCDEF */
        "\x49\x89\xC7"                             /* mov r15, rax */
        "\xF4";                                    /* hlt */
    static const uint8_t gdtr[6] = { GDT_LIMIT, 0, GDT & 0xFF, GDT >> 8, 0, 0 };
    struct cpu *c = long64(); /* tables only; then back to reset */
    unsigned n;
    CHECK(c != NULL);
    cpu_reset(c, false);
    poke(c, 0x7C00, code, sizeof code - 1);
    poke(c, 0x7C20, code32, sizeof code32 - 1);
    poke(c, 0x7C60, code64, sizeof code64 - 1);
    poke(c, 0x7C80, gdtr, 6);
    cpu_set_segment_real(c, SEG_CS, 0);
    c->rip = 0x7C00;
    cpu_update_mode(c);
    for (n = 0; n < 100 && !c->halted; n++)
        CHECK(cpu_run(c, 1) != CPU_EXIT_SHUTDOWN);
    CHECK(c->halted);
    CHECK_EQ(c->mode, MODE_LONG);
    CHECK_EQ(c->gpr[GPR_R15], UINT64_C(0x0123456789ABCDEF));
    CHECK_EQ(c->efer & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
    CHECK_EQ(n, 25);
    done(c);
}

/* ---------------------------------------------------------------- paging */

/* SDM 3A 4.7, figure 4-12: the error code; CR2 the linear address. */
TEST(page_fault_error_codes)
{
    struct cpu *c = long64();
    uint64_t v;
    poke64(c, PT + 0x200 * 8, 0);                          /* 0x200000 not present */
    poke64(c, PT + 0x201 * 8, UINT64_C(0x201000) | 5);     /* user, read only */
    poke64(c, PT + 0x202 * 8, UINT64_C(0x202000) | 3);     /* supervisor, writable */
    poke64(c, PT + 0x203 * 8, UINT64_C(0x203000) | 7 | UINT64_C(1) << 63);
    poke64(c, PT + 0x204 * 8, UINT64_C(0x204000) | 7 | UINT64_C(1) << 51); /* reserved: above 40 bits */
    tlb_flush_all(c);
    c->cr0 |= CR0_WP;
    CHECK_EQ(cpu_load_linear(c, 0x200123, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_PF);
    CHECK_EQ(c->fault.error, 0);
    CHECK_EQ(c->fault.cr2, 0x200123);
    CHECK_EQ(cpu_store_linear(c, 0x201000, 4, 0, ACCESS_WRITE), CPU_FAULT);
    CHECK_EQ(c->fault.error, 3);
    CHECK_EQ(cpu_load_linear(c, 0x204000, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.error, 9); /* P and RSVD */
    to_user(c);
    CHECK_EQ(cpu_load_linear(c, 0x202000, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.error, 5);
    CHECK_EQ(cpu_store_linear(c, 0x202000, 4, 1, ACCESS_WRITE), CPU_FAULT);
    CHECK_EQ(c->fault.error, 7);
    CHECK_EQ(cpu_load_linear(c, 0x202000, 4, &v, ACCESS_READ | ACCESS_SYSTEM), CPU_OK);
    c->rip = 0x203000;
    cpu_step(c);
    CHECK_VECTOR(c, EXC_PF);
    CHECK_EQ(c->cr2, 0x203000);
    CHECK_EQ(top(c, 0), 0x15); /* I/D, U, P */
    done(c);
}

/* SDM 3A 4.8: A on any access, D on a write, and none of them by an access that faults. */
TEST(accessed_and_dirty_bits)
{
    struct cpu *c = long64();
    uint64_t v, e = PT + 0x200 * 8;
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(peek64(c, e) & 0x60, 0x20);
    CHECK_EQ(cpu_store_linear(c, 0x200000, 4, 1, ACCESS_WRITE), CPU_OK);
    CHECK_EQ(peek64(c, e) & 0x60, 0x60);
    CHECK_EQ(peek64(c, PML4) & 0x60, 0x20);
    c->cr0 |= CR0_WP;
    poke64(c, PT + 0x201 * 8, 0x201000 | 5);
    tlb_flush_all(c);
    CHECK_EQ(cpu_store_linear(c, 0x201000, 4, 1, ACCESS_WRITE), CPU_FAULT);
    CHECK_EQ(peek64(c, PT + 0x201 * 8) & 0x60, 0);
    c->cr0 &= ~(uint64_t)CR0_WP;
    tlb_flush_all(c);
    CHECK_EQ(cpu_store_linear(c, 0x201000, 4, 1, ACCESS_WRITE), CPU_OK); /* SDM 3A 4.6.1: supervisor, WP = 0 */
    CHECK_EQ(peek64(c, PT + 0x201 * 8) & 0x60, 0x60);
    done(c);
}

/* SDM 3A 4.6: SMEP, SMAP with and without AC, implicit accesses. */
TEST(smap_and_smep)
{
    struct cpu *c = long64();
    uint64_t v;
    c->gpr[GPR_RAX] = c->cr4 | CR4_SMAP | CR4_SMEP;
    poke64(c, PT + 8 * 8, 0x8000 | 3); /* our own code must be a supervisor page then */
    poke64(c, PT + 6 * 8, 0x6000 | 3);
    poke64(c, PT + 9 * 8, 0x9000 | 3);
    poke64(c, PT + 1 * 8, 0x1000 | 3);
    poke64(c, PT + 2 * 8, 0x2000 | 3);
    poke64(c, PT + 3 * 8, 0x3000 | 3);
    RUN1(c, "\x0F\x22\xE0");
    CHECK_EQ(c->cr4 & (CR4_SMAP | CR4_SMEP), CR4_SMAP | CR4_SMEP);
    CHECK(c->mode_key & KEY_SMAP);
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.error, 1);
    RUN1(c, "\x0F\x01\xCB"); /* stac */
    CHECK(!(c->mode_key & KEY_SMAP));
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ | ACCESS_SYSTEM), CPU_FAULT); /* implicit: AC does not help */
    RUN1(c, "\x0F\x01\xCA"); /* clac */
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_FAULT);
    c->rip = 0x200000;
    cpu_step(c);
    CHECK_VECTOR(c, EXC_PF);
    CHECK_EQ(top(c, 0), 0x11); /* instruction fetch, present */
    done(c);
}

/* SDM 3A 4.3, table 4-4: 4 MiB pages, PSE-36, reserved bit 21. */
TEST(paging_32_bit_with_pse)
{
    struct cpu *c = prot32();
    uint64_t v, gpa;
    unsigned k;
    poke32(c, PML4, 0x83);                 /* 0-4 MiB, one page */
    poke32(c, PML4 + 4, (PML4 + 0x1000) | 3);
    poke32(c, PML4 + 8, 0x83 | 1u << 21);  /* reserved */
    poke32(c, PML4 + 12, 0x83 | 1u << 13); /* physical 4 GiB */
    for (k = 0; k < 1024; k++)
        poke32(c, PML4 + 0x1000 + k * 4, 0x200000 | 3);
    c->gpr[GPR_RAX] = CR4_PSE;
    RUN1(c, "\x0F\x22\xE0");
    c->gpr[GPR_RAX] = PML4;
    RUN1(c, "\x0F\x22\xD8");
    c->gpr[GPR_RAX] = c->cr0 | CR0_PG;
    RUN1(c, "\x0F\x22\xC0");
    CHECK(c->mode_key & KEY_PAGING);
    poke32(c, 0x200010, 0xCAFE);
    CHECK_EQ(cpu_load_linear(c, 0x4AB010, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 0xCAFE);
    CHECK_EQ(cpu_load_linear(c, 0x800000, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.error, 9);
    CHECK(cpu_debug_translate(c, 0xC12345, &gpa));
    CHECK_EQ(gpa, UINT64_C(0x100012345));
    done(c);
}

/* SDM 3A 4.4.1: PAE; CR3 loads the PDPTEs, reserved bits in them fault there; not-present ones fault at use. */
TEST(paging_pae)
{
    struct cpu *c = prot32();
    uint64_t v;
    poke64(c, PML4, (PML4 + 0x1000) | 1);
    poke64(c, PML4 + 8, 0);
    poke64(c, PML4 + 16, 0);
    poke64(c, PML4 + 24, 0);
    poke64(c, PML4 + 0x1000, 0x83);
    poke64(c, PML4 + 0x1008, 0x200000 | 0x83);
    c->gpr[GPR_RAX] = CR4_PAE;
    RUN1(c, "\x0F\x22\xE0");
    c->gpr[GPR_RAX] = PML4;
    RUN1(c, "\x0F\x22\xD8");
    c->gpr[GPR_RAX] = c->cr0 | CR0_PG;
    RUN1(c, "\x0F\x22\xC0");
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(cpu_load_linear(c, 0x40000000, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.error, 0);
    poke64(c, PML4 + 8, (PML4 + 0x1000) | 3); /* bit 1 is reserved in a PDPTE */
    c->gpr[GPR_RAX] = PML4;
    RUN1(c, "\x0F\x22\xD8");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* SDM 3A 4.5: 2 MiB and 1 GiB pages; 5 levels with CR4.LA57 (canonical then means 57 bits). */
TEST(paging_large_pages_and_la57)
{
    struct cpu *c = long64();
    uint64_t v, gpa;
    enum { NEW = 0x400000 };
    poke64(c, PDPT + 8, 0x87);            /* 1 GiB page */
    poke64(c, PDPT + 16, 0x87 | 1 << 13); /* reserved bit of a 1 GiB page */
    poke64(c, PD + 8 * 8, 0x87);          /* 16 MiB: 2 MiB page at 0 */
    poke32(c, 0x5678, 0xBEEF);
    CHECK_EQ(cpu_load_linear(c, 0x40005678, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 0xBEEF);
    CHECK_EQ(cpu_load_linear(c, 0x1005678, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 0xBEEF);
    CHECK_EQ(cpu_load_linear(c, 0x80000000u, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.error, 9);
    /* leave long mode's paging for a moment to switch to five levels */
    poke64(c, NEW, PML4 | 7);
    c->cr4 |= CR4_LA57;
    tlb_set_cr3(c, NEW, false);
    tlb_flush_all(c);
    CHECK(cpu_debug_translate(c, 0x40005678, &gpa));
    CHECK_EQ(gpa, 0x5678);
    CHECK_EQ(cpu_load(c, SEG_DS, UINT64_C(0x00FF000000000000), 4, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_PF); /* canonical in 57 bits: a page fault, not #GP */
    CHECK_EQ(cpu_load(c, SEG_DS, UINT64_C(0x01FF000000000000), 4, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_GP);
    done(c);
}

/* SDM 3A 4.10.4.1: INVLPG drops one page, CR3 loads keep global pages, CR4.PGE changes drop all. */
TEST(tlb_invalidation_rules)
{
    struct cpu *c = long64();
    uint64_t v;
    c->gpr[GPR_RAX] = c->cr4 | CR4_PGE;
    RUN1(c, "\x0F\x22\xE0");
    poke64(c, PT + 0x201 * 8, 0x201000 | 7 | 0x100); /* global */
    poke32(c, 0x200000, 1);
    poke32(c, 0x201000, 2);
    poke32(c, 0x300000, 3);
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(cpu_load_linear(c, 0x201000, 4, &v, ACCESS_READ), CPU_OK);
    poke64(c, PT + 0x200 * 8, 0x300000 | 7);
    poke64(c, PT + 0x201 * 8, 0x300000 | 7 | 0x100);
    c->gpr[GPR_RAX] = PML4;
    RUN1(c, "\x0F\x22\xD8");
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 3);
    CHECK_EQ(cpu_load_linear(c, 0x201000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 2); /* global: still the old one */
    c->gpr[GPR_RAX] = 0x201000;
    RUN1(c, "\x0F\x01\x38"); /* invlpg [rax] */
    CHECK_EQ(cpu_load_linear(c, 0x201000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 3);
    poke64(c, PT + 0x201 * 8, 0x200000 | 7 | 0x100);
    c->gpr[GPR_RAX] = c->cr4 & ~(uint64_t)CR4_PGE;
    RUN1(c, "\x0F\x22\xE0");
    CHECK_EQ(cpu_load_linear(c, 0x201000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 1);
    done(c);
}

/* INVLPG of any address in a large page drops the whole page (SDM 3A 4.10.4.1). */
TEST(invlpg_drops_whole_large_page)
{
    struct cpu *c = long64();
    uint64_t v;
    poke64(c, PD + 8 * 8, 0x87); /* 16-18 MiB -> 0 */
    poke32(c, 0x1000 + 0x300, 7);
    poke32(c, 0x200000 + 0x1300, 8);
    CHECK_EQ(cpu_load_linear(c, 0x1001300, 4, &v, ACCESS_READ), CPU_OK);
    poke64(c, PD + 8 * 8, 0x200000 | 0x87);
    CHECK_EQ(cpu_load_linear(c, 0x1001300, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 7);
    c->gpr[GPR_RAX] = 0x1123456;
    RUN1(c, "\x0F\x01\x38");
    CHECK_EQ(cpu_load_linear(c, 0x1001300, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 8);
    done(c);
}

/* SDM 3A 4.10.1 and 4.10.4: PCIDs keep their translations when bit 63 is set; INVPCID drops by kind. */
TEST(pcid_keeps_and_invpcid_drops)
{
    struct cpu *c = long64();
    uint64_t v;
    c->gpr[GPR_RAX] = c->cr4 | CR4_PCIDE;
    RUN1(c, "\x0F\x22\xE0");
    CHECK(c->cr4 & CR4_PCIDE);
    poke32(c, 0x200000, 1);
    poke32(c, 0x300000, 3);
    c->gpr[GPR_RAX] = PML4 | 1;
    RUN1(c, "\x0F\x22\xD8");
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    poke64(c, PT + 0x200 * 8, 0x300000 | 7);
    c->gpr[GPR_RAX] = PML4 | 2;
    RUN1(c, "\x0F\x22\xD8"); /* another PCID; it must not touch 200000h, since a TLB may drop what it likes */
    c->gpr[GPR_RAX] = PML4 | 1 | UINT64_C(1) << 63;
    RUN1(c, "\x0F\x22\xD8");
    CHECK_EQ(c->cr3, PML4 | 1);
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 1); /* kept */
    poke64(c, 0x5000, 1);
    poke64(c, 0x5008, 0x200000);
    c->gpr[GPR_RAX] = 0; /* individual address */
    c->gpr[GPR_RBX] = 0x5000;
    RUN1(c, "\x66\x0F\x38\x82\x03");
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 3);
    c->gpr[GPR_RAX] = 4;
    RUN1(c, "\x66\x0F\x38\x82\x03");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* SDM 3A 4.6.2: protection keys: AD and WD for user pages, error code bit 5. */
TEST(protection_keys)
{
    struct cpu *c = long64();
    uint64_t v;
    poke64(c, PT + 0x200 * 8, 0x200000 | 7 | UINT64_C(5) << 59);
    c->gpr[GPR_RAX] = c->cr4 | CR4_PKE;
    RUN1(c, "\x0F\x22\xE0");
    c->gpr[GPR_RAX] = 2u << 10; /* WD of key 5 */
    c->gpr[GPR_RCX] = c->gpr[GPR_RDX] = 0;
    RUN1(c, "\x0F\x01\xEF"); /* wrpkru */
    c->cr0 |= CR0_WP;
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(cpu_store_linear(c, 0x200000, 4, 1, ACCESS_WRITE), CPU_FAULT);
    CHECK_EQ(c->fault.error, 0x23);
    to_user(c);
    c->gpr[GPR_RAX] = 1u << 10; /* AD */
    RUN1(c, "\x0F\x01\xEF");
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_FAULT);
    CHECK_EQ(c->fault.error, 0x25);
    RUN1(c, "\x0F\x01\xEE"); /* rdpkru */
    CHECK_EQ(c->gpr[GPR_RAX], 1u << 10);
    done(c);
}

/* Bit 20 of every physical address is masked while the A20 gate is closed (IBM PC/AT technical reference). */
TEST(a20_mask_applies_to_walks)
{
    struct cpu *c = prot32();
    uint64_t v;
    poke32(c, 0x300000, 0x33);
    poke32(c, 0x200000, 0x22);
    c->emu->a20_mask = ~(uint64_t)(1 << 20);
    tlb_machine_changed(c->emu);
    CHECK_EQ(cpu_load_linear(c, 0x300000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 0x22);
    c->emu->a20_mask = ~UINT64_C(0);
    tlb_machine_changed(c->emu);
    CHECK_EQ(cpu_load_linear(c, 0x300000, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 0x33);
    done(c);
}

/* A store that crosses into a page that faults changes nothing (SDM 3A 6.5: faults restart). */
TEST(crossing_store_is_all_or_nothing)
{
    struct cpu *c = long64();
    uint64_t v;
    poke64(c, PT + 0x201 * 8, 0);
    poke64(c, 0x200FF8, UINT64_C(0x1111111111111111));
    CHECK_EQ(cpu_store(c, SEG_DS, 0x200FFC, 8, 0), CPU_FAULT);
    CHECK_EQ(c->fault.cr2, 0x201000);
    CHECK_EQ(c->fault.error, 2);
    CHECK_EQ(peek64(c, 0x200FF8), UINT64_C(0x1111111111111111));
    poke64(c, PT + 0x201 * 8, 0x300000 | 7);
    CHECK_EQ(cpu_store(c, SEG_DS, 0x200FFC, 8, UINT64_C(0x8877665544332211)), CPU_OK);
    CHECK_EQ(peek32(c, 0x200FFC), 0x44332211);
    CHECK_EQ(peek32(c, 0x300000), 0x88776655u);
    CHECK_EQ(cpu_load(c, SEG_DS, 0x200FFC, 8, &v), CPU_OK);
    CHECK_EQ(v, UINT64_C(0x8877665544332211));
    done(c);
}

static uint64_t io_last;
static uint64_t io_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque;
    (void)size;
    return 0xA0 + offset;
}
static void io_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)opaque;
    (void)size;
    io_last = offset << 32 | value;
}

TEST(mmio_goes_to_the_region)
{
    static const struct region_ops ops = { io_read, io_write, 1, 4, true };
    static struct region r;
    struct cpu *c = prot32();
    uint64_t v;
    region_init_io(&r, "io", &ops, NULL, 0x1000);
    CHECK_EQ(region_add(c->emu, &c->emu->memory, &r, 0xE0000000u, 0), 0);
    tlb_machine_changed(c->emu);
    CHECK_EQ(cpu_load_linear(c, 0xE0000004u, 4, &v, ACCESS_READ), CPU_OK);
    CHECK_EQ(v, 0xA4);
    CHECK_EQ(cpu_store_linear(c, 0xE0000008u, 4, 0x55, ACCESS_WRITE), CPU_OK);
    CHECK_EQ(io_last, UINT64_C(8) << 32 | 0x55);
    CHECK(tlb_host(c, 0xE0000000u, 4, ACCESS_READ) == NULL);
    CHECK(tlb_host(c, 0x200000, 4, ACCESS_READ) != NULL);
    done(c);
}

TEST(pages_with_code_and_watched_pages_take_the_slow_path)
{
    struct cpu *c = prot32();
    uint64_t v;
    uint32_t g;
    CHECK(tlb_host(c, DATA, 4, ACCESS_WRITE) != NULL);
    c->emu->ram->page_flags[DATA >> 12] |= PAGE_HAS_CODE;
    g = c->generation;
    tlb_protect_page(c->emu, c->emu->ram, DATA);
    CHECK(c->generation != g);
    CHECK(tlb_host(c, DATA, 4, ACCESS_WRITE) == NULL);
    CHECK(tlb_host(c, DATA, 4, ACCESS_READ) != NULL);
    CHECK_EQ(cpu_store_linear(c, DATA, 4, 0x1234, ACCESS_WRITE), CPU_OK);
    CHECK_EQ(peek32(c, DATA), 0x1234);
    c->emu->ram->page_flags[DATA >> 12] = PAGE_TRACKED; /* first store: dirty, and direct from then on */
    CHECK_EQ(cpu_store_linear(c, DATA, 4, 0x5678, ACCESS_WRITE), CPU_OK);
    CHECK(c->emu->ram->page_flags[DATA >> 12] & PAGE_DIRTY);
    CHECK(tlb_host(c, DATA, 4, ACCESS_WRITE) != NULL);
    CHECK_EQ(mem_watch_set(c->emu, DATA + 8, 4, 1, true), 0);
    CHECK(tlb_host(c, DATA, 4, ACCESS_READ) == NULL);
    CHECK_EQ(cpu_load_linear(c, DATA + 8, 4, &v, ACCESS_READ), CPU_OK);
    CHECK(!c->watch_hit);
    CHECK_EQ(cpu_store_linear(c, DATA + 6, 4, 0, ACCESS_WRITE), CPU_OK);
    CHECK(c->watch_hit);
    c->watch_hit = false;
    CHECK_EQ(mem_watch_set(c->emu, DATA + 8, 4, 1, false), 0);
    CHECK(tlb_host(c, DATA, 4, ACCESS_WRITE) != NULL);
    done(c);
}

/* ---------------------------------------------------------------- segments */

/* SDM 2B MOV to Sreg, exceptions of protected mode. */
TEST(segment_loads_check_type_privilege_and_presence)
{
    struct cpu *c = prot32();
    c->gpr[GPR_RAX] = SEL_RO;
    RUN1(c, "\x8E\xD8"); /* mov ds: read-only data is fine, and gets its accessed bit */
    CHECK_EQ(c->seg[SEG_DS].selector, SEL_RO);
    CHECK_EQ(peek64(c, GDT + SEL_RO) >> 40 & 1, 1);
    RUN1(c, "\x8E\xD0"); /* mov ss: must be writable */
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), SEL_RO);
    c->rip = CODE;
    c->gpr[GPR_RAX] = SEL_XONLY;
    RUN1(c, "\x8E\xD8");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RAX] = SEL_NP;
    RUN1(c, "\x8E\xD8");
    CHECK_VECTOR(c, EXC_NP);
    CHECK_EQ(top(c, 0), SEL_NP);
    c->rip = CODE;
    RUN1(c, "\x8E\xD0");
    CHECK_VECTOR(c, EXC_SS);
    c->rip = CODE;
    c->gpr[GPR_RAX] = 0x1000; /* beyond the limit */
    RUN1(c, "\x8E\xD8");
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0x1000);
    c->rip = CODE;
    RUN1(c, "\x8E\xC8"); /* mov cs */
    CHECK_VECTOR(c, EXC_UD);
    c->rip = CODE;
    c->gpr[GPR_RAX] = 0;
    RUN1(c, "\x8E\xD8"); /* null is fine ... */
    CHECK(c->seg[SEG_DS].attr & SEG_UNUSABLE);
    RUN1(c, "\xA1\x00\x00\x20\x00"); /* ... until it is used */
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0);
    c->rip = CODE;
    RUN1(c, "\x8E\xD0"); /* null SS outside of 64-bit mode */
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

TEST(user_cannot_load_inner_data_segment)
{
    struct cpu *c = prot32();
    to_user(c);
    c->gpr[GPR_RAX] = SEL_DATA0 | 3;
    RUN1(c, "\x8E\xD8");
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), SEL_DATA0); /* RPL bits of the error code are EXT and IDT: 0 */
    CHECK_EQ(c->cpl, 0);
    done(c);
}

/* SDM 3A 5.3: limits; expand-down segments are valid above the limit. Stack violations are #SS. */
TEST(limits_and_expand_down)
{
    struct cpu *c = prot32();
    uint64_t v;
    c->gpr[GPR_RAX] = SEL_DATA16;
    RUN1(c, "\x8E\xC0");
    CHECK_EQ(cpu_load(c, SEG_ES, 0xFFFC, 4, &v), CPU_OK);
    CHECK_EQ(cpu_load(c, SEG_ES, 0xFFFD, 4, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_GP);
    c->gpr[GPR_RAX] = SEL_DOWN;
    RUN1(c, "\x8E\xC0");
    CHECK_EQ(cpu_load(c, SEG_ES, 0xFFF, 4, &v), CPU_FAULT);
    CHECK_EQ(cpu_load(c, SEG_ES, 0x1000, 4, &v), CPU_OK);
    c->gpr[GPR_RAX] = SEL_DATA16;
    RUN1(c, "\x8E\xD0");
    CHECK_EQ(cpu_load(c, SEG_SS, 0x10000, 4, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_SS);
    done(c);
}

/* SDM 1 3.3.7.1, 3A 6.15 (#SS): non-canonical addresses; FS and GS bases count in 64-bit mode, DS's does not. */
TEST(canonical_checks_and_bases_in_long_mode)
{
    struct cpu *c = long64();
    uint64_t v;
    CHECK_EQ(cpu_load(c, SEG_DS, UINT64_C(0x0000800000000000), 8, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_GP);
    CHECK_EQ(cpu_load(c, SEG_SS, UINT64_C(0x0000800000000000), 8, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_SS);
    CHECK_EQ(cpu_load(c, SEG_DS, UINT64_C(0x00007FFFFFFFFFFC), 8, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_GP);
    poke32(c, 0x200000, 0x99);
    c->seg[SEG_DS].base = 0x1000;
    c->seg[SEG_FS].base = 0x200000;
    cpu_update_mode(c);
    CHECK_EQ(cpu_load(c, SEG_FS, 0, 4, &v), CPU_OK);
    CHECK_EQ(v, 0x99);
    CHECK_EQ(cpu_load(c, SEG_DS, 0x200000, 4, &v), CPU_OK);
    CHECK_EQ(v, 0x99);
    CHECK_EQ(c->seg_base[SEG_DS], 0);
    done(c);
}

/* SDM 2A LAR, LSL; 2B VERR/VERW; ARPL. */
TEST(lar_lsl_verr_verw_arpl)
{
    struct cpu *c = prot32();
    c->gpr[GPR_RAX] = SEL_CODE0;
    RUN1(c, "\x0F\x02\xD8"); /* lar ebx, eax */
    CHECK(cpu_arith_flags(c) & FLAG_ZF);
    CHECK_EQ(c->gpr[GPR_RBX] & ~UINT64_C(0xF0000), 0xC09B00); /* bits 16-19 are undefined; cpu_diff.c has what processors give */
    RUN1(c, "\x0F\x03\xD8"); /* lsl */
    CHECK_EQ(c->gpr[GPR_RBX], 0xFFFFFFFFu);
    c->gpr[GPR_RAX] = 0x2000;
    RUN1(c, "\x0F\x03\xD8");
    CHECK(!(cpu_arith_flags(c) & FLAG_ZF));
    CHECK_EQ(c->gpr[GPR_RBX], 0xFFFFFFFFu); /* unchanged */
    c->gpr[GPR_RAX] = SEL_RO;
    RUN1(c, "\x0F\x00\xE0"); /* verr ax */
    CHECK(cpu_arith_flags(c) & FLAG_ZF);
    RUN1(c, "\x0F\x00\xE8"); /* verw ax */
    CHECK(!(cpu_arith_flags(c) & FLAG_ZF));
    c->gpr[GPR_RAX] = SEL_TSS2;
    RUN1(c, "\x0F\x03\xD8");
    CHECK(cpu_arith_flags(c) & FLAG_ZF);
    CHECK_EQ(c->gpr[GPR_RBX], 0x67);
    c->gpr[GPR_RAX] = 0x10;
    c->gpr[GPR_RBX] = 3;
    RUN1(c, "\x63\xD8"); /* arpl ax, bx */
    CHECK(cpu_arith_flags(c) & FLAG_ZF);
    CHECK_EQ(c->gpr[GPR_RAX], 0x13);
    to_user(c);
    c->gpr[GPR_RAX] = SEL_DATA0 | 3;
    RUN1(c, "\x0F\x02\xD8");
    CHECK(!(cpu_arith_flags(c) & FLAG_ZF)); /* DPL 0 is not visible to CPL 3 */
    done(c);
}

/* SDM 2A PUSH: a 32-bit push of a selector stores 16 bits and leaves the rest on current processors; POP SS opens a shadow. */
TEST(push_pop_segment)
{
    struct cpu *c = prot32();
    poke32(c, STACK - 4, 0xAAAA5555u);
    RUN1(c, "\x1E"); /* push ds */
    CHECK_EQ(c->gpr[GPR_RSP], STACK - 4);
    CHECK_EQ(peek32(c, STACK - 4), 0xAAAA0010u);
    RUN1(c, "\x17"); /* pop ss */
    CHECK_EQ(c->gpr[GPR_RSP], STACK);
    CHECK_EQ(c->interrupt_shadow, 1);
    RUN1(c, "\x90");
    CHECK_EQ(c->interrupt_shadow, 0);
    done(c);
}

TEST(lgdt_lldt_ltr)
{
    struct cpu *c = prot32();
    poke32(c, DATA, 0x12340FFF);
    poke32(c, DATA + 4, 0xFFAB);
    c->gpr[GPR_RBX] = DATA;
    RUN1(c, "\x0F\x01\x1B"); /* lidt [ebx] */
    CHECK_EQ(c->idtr.limit, 0xFFF);
    CHECK_EQ(c->idtr.base, 0xFFAB1234u);
    RUN1(c, "\x66\x0F\x01\x1B"); /* 16-bit operand: 24-bit base */
    CHECK_EQ(c->idtr.base, 0xAB1234u);
    RUN1(c, "\x0F\x01\x4B\x10"); /* sidt [ebx+10] */
    CHECK_EQ(peek16(c, DATA + 0x10), 0xFFF);
    CHECK_EQ(peek32(c, DATA + 0x12), 0xAB1234u);
    c->idtr.base = IDT;
    c->gpr[GPR_RAX] = SEL_LDT;
    RUN1(c, "\x0F\x00\xD0");
    CHECK_EQ(c->seg[SEG_LDTR].base, LDT);
    poke64(c, LDT + 8, descriptor(0x5000, 0xFFF, 0x00F3));
    c->gpr[GPR_RAX] = 0xF; /* LDT entry 1, RPL 3 */
    RUN1(c, "\x8E\xC0");
    CHECK_EQ(c->seg[SEG_ES].base, 0x5000);
    c->gpr[GPR_RAX] = SEL_TSS2;
    RUN1(c, "\x0F\x00\xD8"); /* ltr */
    CHECK_EQ(c->seg[SEG_TR].base, TSS2);
    CHECK_EQ(peek64(c, GDT + SEL_TSS2) >> 40 & 15, 11); /* busy */
    RUN1(c, "\x0F\x00\xD8"); /* busy: #GP(selector) */
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), SEL_TSS2);
    done(c);
}

/* ---------------------------------------------------------------- exceptions and interrupts */

/* SDM 3A 6.12.1: frame of a fault without privilege change; RF in the image (17.3.1.1), IF cleared by an interrupt gate. */
TEST(fault_frame_same_privilege)
{
    struct cpu *c = prot32();
    c->eflags |= FLAG_IF;
    c->gpr[GPR_RAX] = 0;
    RUN1(c, "\xF7\xF0"); /* div eax */
    CHECK_VECTOR(c, EXC_DE);
    CHECK_EQ(c->gpr[GPR_RSP], STACK - 12);
    CHECK_EQ(top(c, 0), CODE);
    CHECK_EQ(top(c, 1), SEL_CODE0);
    CHECK_EQ(top(c, 2) & (FLAG_RF | FLAG_IF), FLAG_RF | FLAG_IF);
    CHECK(!(c->eflags & FLAG_IF));
    done(c);
}

/* SDM 3A figure 6-4: stack switch to the TSS's SS0:ESP0. */
TEST(interrupt_from_user_switches_stack)
{
    struct cpu *c = prot32();
    to_user(c);
    RUN1(c, "\xCD\x80");
    CHECK_VECTOR(c, 0x80);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 - 20);
    CHECK_EQ(top(c, 0), UCODE + 2);
    CHECK_EQ(top(c, 1), SEL_CODE3 | 3);
    CHECK_EQ(top(c, 2) & FLAG_RF, 0);
    CHECK_EQ(top(c, 3), USTACK);
    CHECK_EQ(top(c, 4), SEL_DATA3 | 3);
    CHECK_EQ(c->seg[SEG_SS].selector, SEL_DATA0);
    RUN1(c, "\xCF"); /* iret: back */
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->rip, UCODE + 2);
    CHECK_EQ(c->gpr[GPR_RSP], USTACK);
    done(c);
}

/* SDM 2A INT n: DPL of the gate must not be below CPL for software interrupts: #GP(vector * 8 + 2). */
TEST(software_interrupt_checks_gate_dpl)
{
    struct cpu *c = prot32();
    to_user(c);
    RUN1(c, "\xCD\x21");
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0x21 * 8 + 2);
    CHECK_EQ(top(c, 1), UCODE);
    poke64(c, IDT + 0x22 * 8, gate(SEL_CODE0, HANDLERS, 0x6E)); /* not present */
    to_user(c);
    RUN1(c, "\xCD\x22");
    CHECK_VECTOR(c, EXC_NP);
    CHECK_EQ(top(c, 0), 0x22 * 8 + 2);
    done(c);
}

TEST(int3_into_int1)
{
    struct cpu *c = prot32();
    to_user(c);
    RUN1(c, "\xCC");
    CHECK_VECTOR(c, EXC_BP);
    CHECK_EQ(top(c, 0), UCODE + 1);
    to_user(c);
    cpu_set_arith_flags(c, FLAG_OF);
    RUN1(c, "\xCE");
    CHECK_VECTOR(c, EXC_OF);
    CHECK_EQ(top(c, 0), UCODE + 1);
    to_user(c);
    cpu_set_arith_flags(c, 0);
    RUN1(c, "\xCE");
    CHECK_EQ(c->rip, UCODE + 1);
    to_user(c);
    RUN1(c, "\xF1"); /* INT1: no DPL check (SDM 2A INT1) */
    CHECK_VECTOR(c, EXC_DB);
    CHECK_EQ(top(c, 0), UCODE + 1);
    done(c);
}

/* SDM 3A table 6-5 and 6.15 (#DF), shutdown after a fault in its delivery. */
TEST(double_and_triple_fault)
{
    struct cpu *c = prot32();
    poke64(c, IDT + EXC_GP * 8, 0); /* #GP's gate is bad: contributory in contributory */
    c->gpr[GPR_RAX] = 0x1000;
    RUN1(c, "\x8E\xD8");
    CHECK_VECTOR(c, EXC_DF);
    CHECK_EQ(top(c, 0), 0);
    CHECK_EQ(top(c, 1), CODE);
    c->rip = CODE;
    poke64(c, IDT + EXC_DF * 8, 0);
    RUN1(c, "\x8E\xD8");
    CHECK(c->shutdown);
    done(c);
}

/* Table 6-5: a page fault while delivering a benign exception is just a page fault; during a page fault it is a double fault. */
TEST(page_fault_in_delivery)
{
    struct cpu *c = long64();
    poke64(c, PT + 0x200 * 8, 0);
    c->gpr[GPR_RSP] = 0x200800; /* every push faults */
    poke64(c, IDT + EXC_PF * 16, gate(SEL_CODE64, HANDLERS + EXC_PF * 16, 0x8E) | UINT64_C(1) << 32); /* IST 1 */
    RUN1(c, "\x0F\x0B"); /* ud2 */
    CHECK_VECTOR(c, EXC_PF);
    CHECK_EQ(c->cr2, 0x2007F8);
    CHECK_EQ(top(c, 0), 2);
    CHECK_EQ(top(c, 1), CODE);
    poke64(c, IDT + EXC_PF * 16, gate(SEL_CODE64, HANDLERS + EXC_PF * 16, 0x8E));
    poke64(c, IDT + EXC_DF * 16, gate(SEL_CODE64, HANDLERS + EXC_DF * 16, 0x8E) | UINT64_C(1) << 32);
    c->rip = CODE;
    c->gpr[GPR_RSP] = 0x200800;
    RUN1(c, "\x48\xA1\x10\x00\x20\x00\x00\x00\x00\x00"); /* mov rax, [200010] */
    CHECK_VECTOR(c, EXC_DF);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 + 0x1000 - 48);
    done(c);
}

/* SDM 3A 6.14.2 and 6.14.4: 64-bit frames: SS:RSP always, 16-byte alignment, null SS on a privilege change, IST. */
TEST(long_mode_frames)
{
    struct cpu *c = long64();
    c->gpr[GPR_RSP] = STACK - 4;
    RUN1(c, "\x0F\x0B");
    CHECK_VECTOR(c, EXC_UD);
    CHECK_EQ(c->gpr[GPR_RSP], STACK - 16 - 40);
    CHECK_EQ(top(c, 0), CODE);
    CHECK_EQ(top(c, 3), STACK - 4);
    CHECK_EQ(top(c, 4), SEL_DATA0);
    CHECK_EQ(c->seg[SEG_SS].selector, SEL_DATA0);
    RUN1(c, "\x48\xCF"); /* iretq */
    CHECK_EQ(c->rip, CODE);
    CHECK_EQ(c->gpr[GPR_RSP], STACK - 4);
    to_user(c);
    RUN1(c, "\xCD\x80");
    CHECK_EQ(c->seg[SEG_SS].selector, 0);
    CHECK(c->seg[SEG_SS].attr & SEG_UNUSABLE);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 - 40);
    CHECK_EQ(top(c, 3), USTACK);
    RUN1(c, "\x48\xCF");
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->mode, MODE_LONG);
    CHECK_EQ(c->gpr[GPR_RSP], USTACK);
    CHECK_EQ(c->seg[SEG_SS].selector, SEL_DATA3 | 3);
    done(c);
}

TEST(external_interrupt_and_error_code_ext_bit)
{
    struct cpu *c = prot32();
    c->eflags |= FLAG_IF;
    c->halted = true;
    cpu_deliver_interrupt(c, 0x31);
    CHECK(!c->halted);
    CHECK_VECTOR(c, 0x31);
    CHECK_EQ(top(c, 0), CODE);
    poke64(c, IDT + 0x32 * 8, 0);
    c->rip = CODE;
    cpu_deliver_interrupt(c, 0x32); /* bad gate type: #GP(0x32 * 8 + 2 + EXT) (SDM 3A 6.13) */
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0x32 * 8 + 3);
    cpu_deliver_interrupt(c, EXC_NMI);
    CHECK(c->nmi_blocked);
    RUN1(c, "\xCF");
    CHECK(!c->nmi_blocked);
    done(c);
}

/* SDM 3A 20.1.4 (vol. 3B): real mode vectors of 4 bytes, 6-byte frame, IF and TF cleared. */
TEST(real_mode_interrupt_and_iret)
{
    struct cpu *c = bare_cpu();
    CHECK(c != NULL);
    poke32(c, 0x21 * 4, 0x12340567);
    cpu_set_segment_real(c, SEG_CS, 0x100);
    cpu_set_segment_real(c, SEG_SS, 0x2000);
    c->gpr[GPR_RSP] = 0x12340100;
    c->rip = 0x10;
    c->eflags |= FLAG_IF | FLAG_TF;
    c->eflags &= ~(uint32_t)FLAG_TF;
    cpu_update_mode(c);
    RUN1(c, "\xCD\x21");
    CHECK_EQ(c->seg[SEG_CS].selector, 0x1234);
    CHECK_EQ(c->seg[SEG_CS].base, 0x12340);
    CHECK_EQ(c->rip, 0x567);
    CHECK_EQ(c->gpr[GPR_RSP], 0x123400FA);
    CHECK_EQ(peek16(c, 0x200FA), 0x12);
    CHECK_EQ(peek16(c, 0x200FC), 0x100);
    CHECK_EQ(peek16(c, 0x200FE), FLAG_IF | 2);
    CHECK(!(c->eflags & FLAG_IF));
    RUN1(c, "\xCF");
    CHECK_EQ(c->rip, 0x12);
    CHECK_EQ(c->seg[SEG_CS].selector, 0x100);
    CHECK(c->eflags & FLAG_IF);
    CHECK_EQ(c->gpr[GPR_RSP], 0x12340100);
    done(c);
}

/* ---------------------------------------------------------------- debug */

/* SDM 3B 17.2, 17.3.1: DR0 as instruction breakpoint is a fault before the instruction; RF skips it once. */
TEST(instruction_breakpoint_and_resume_flag)
{
    struct cpu *c = prot32();
    poke(c, CODE, "\x90\x40\x40", 3);
    c->dr[0] = CODE + 1;
    c->dr[7] |= 2; /* G0 */
    tlb_flush_all(c);
    cpu_update_mode(c);
    CHECK(c->mode_key & KEY_DEBUG);
    cpu_step(c);
    CHECK_EQ(c->rip, CODE + 1);
    cpu_step(c);
    CHECK_VECTOR(c, EXC_DB);
    CHECK_EQ(c->dr[6] & 15, 1);
    CHECK_EQ(top(c, 0), CODE + 1);
    CHECK_EQ(top(c, 2) & FLAG_RF, 0);
    poke32(c, c->gpr[GPR_RSP] + 8, peek32(c, c->gpr[GPR_RSP] + 8) | FLAG_RF);
    c->gpr[GPR_RAX] = 5;
    RUN1(c, "\xCF");
    CHECK(c->eflags & FLAG_RF);
    cpu_step(c); /* inc eax, breakpoint suppressed */
    CHECK_EQ(c->gpr[GPR_RAX], 6);
    CHECK_EQ(c->rip, CODE + 2);
    CHECK(!(c->eflags & FLAG_RF));
    done(c);
}

/* SDM 3B 17.3.1.2: data breakpoints are traps after the instruction. */
TEST(data_breakpoint_traps_after_the_store)
{
    struct cpu *c = prot32();
    c->dr[1] = DATA;
    c->dr[7] = 0x400 | 8 | 0x00D00000; /* G1, write, 4 bytes */
    tlb_flush_all(c);
    cpu_update_mode(c);
    RUN1(c, "\xA1\x00\x00\x20\x00"); /* load: no */
    CHECK_EQ(c->rip, CODE + 5);
    RUN1(c, "\xC6\x05\x03\x00\x20\x00\x77"); /* byte store to its last byte */
    CHECK_VECTOR(c, EXC_DB);
    CHECK_EQ(c->dr[6] & 15, 2);
    CHECK_EQ(top(c, 0), CODE + 5 + 7);
    CHECK_EQ(mem_ld(c->emu, DATA + 3, 1), 0x77);
    done(c);
}

/* SDM 3B 17.3.1.4: TF traps after the instruction with BS; the handler runs without TF; MOV SS delays it. */
TEST(single_step)
{
    struct cpu *c = prot32();
    c->eflags |= FLAG_TF;
    RUN1(c, "\x90");
    CHECK_VECTOR(c, EXC_DB);
    CHECK_EQ(top(c, 0), CODE + 1);
    CHECK(c->dr[6] & 0x4000);
    CHECK(!(c->eflags & FLAG_TF));
    CHECK(top(c, 2) & FLAG_TF);
    c->rip = CODE;
    c->eflags |= FLAG_TF;
    c->gpr[GPR_RAX] = SEL_DATA0;
    RUN(c, 1, "\x8E\xD0\x90");
    CHECK_EQ(c->rip, CODE + 2); /* no trap yet (SDM 3A 6.8.3) */
    cpu_step(c);
    CHECK_VECTOR(c, EXC_DB);
    CHECK_EQ(top(c, 0), CODE + 3);
    done(c);
}

/* SDM 3B 17.2.4 (GD), 17.2.2 (DR4/5 with CR4.DE). */
TEST(debug_registers_access)
{
    struct cpu *c = prot32();
    c->gpr[GPR_RAX] = 0xFFFFFFFFu;
    RUN1(c, "\x0F\x23\xF0"); /* mov dr6, eax */
    CHECK_EQ(c->dr[6], 0xFFFFEFFFu);
    c->gpr[GPR_RAX] = 0x2000;
    RUN1(c, "\x0F\x23\xF8"); /* dr7: GD */
    CHECK_EQ(c->dr[7], 0x2400);
    RUN1(c, "\x0F\x21\xC0"); /* mov eax, dr0 */
    CHECK_VECTOR(c, EXC_DB);
    CHECK(c->dr[6] & 0x2000);
    CHECK_EQ(c->dr[7], 0x400); /* cleared on entry */
    c->rip = CODE;
    c->dr[6] = 0xFFFF0FF0u;
    RUN1(c, "\x0F\x21\xE0"); /* dr4 = dr6 */
    CHECK_EQ(c->gpr[GPR_RAX], 0xFFFF0FF0u);
    c->gpr[GPR_RAX] = CR4_DE;
    RUN1(c, "\x0F\x22\xE0");
    RUN1(c, "\x0F\x21\xE0");
    CHECK_VECTOR(c, EXC_UD);
    done(c);
}

/* ---------------------------------------------------------------- far transfers, gates, tasks */

TEST(far_jump_checks)
{
    struct cpu *c = prot32();
    RUN1(c, "\xEA\x00\x90\x00\x00\x50\x00"); /* jmp 50:9000: conforming */
    CHECK_EQ(c->seg[SEG_CS].selector, SEL_CONF);
    CHECK_EQ(c->rip, 0x9000);
    RUN1(c, "\xEA\x00\x80\x00\x00\x18\x00"); /* DPL 3 non-conforming from CPL 0: #GP(sel) */
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), SEL_CODE3);
    c->rip = CODE;
    RUN1(c, "\xEA\x00\x80\x00\x00\x00\x00");
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0);
    c->rip = CODE;
    RUN1(c, "\xEA\x00\x80\x00\x00\x10\x00"); /* data */
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    RUN1(c, "\xEA\x00\x00\x01\x00\x78\x00"); /* offset beyond the limit: #GP(0) */
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0);
    done(c);
}

/* SDM 2A CALL, MORE-PRIVILEGE: new stack, SS:ESP, two parameters, CS:EIP; and back with RET 8. */
TEST(call_gate_to_inner_level_and_back)
{
    struct cpu *c = prot32();
    set_gdt(c, SEL_GATE, gate(SEL_CODE0, 0x9000, 0xEC) | UINT64_C(2) << 32);
    to_user(c);
    poke32(c, USTACK - 8, 0x1111);
    poke32(c, USTACK - 4, 0x2222);
    c->gpr[GPR_RSP] = USTACK - 8;
    RUN1(c, "\x9A\x00\x00\x00\x00\x6B\x00");
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->seg[SEG_CS].selector, SEL_CODE0);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 - 24);
    CHECK_EQ(top(c, 0), UCODE + 7);
    CHECK_EQ(top(c, 1), SEL_CODE3 | 3);
    CHECK_EQ(top(c, 2), 0x1111);
    CHECK_EQ(top(c, 3), 0x2222);
    CHECK_EQ(top(c, 4), USTACK - 8);
    CHECK_EQ(top(c, 5), SEL_DATA3 | 3);
    c->gpr[GPR_RAX] = SEL_DATA0; /* an inner data segment must not survive the return */
    c->rip = CODE;
    RUN1(c, "\x8E\xE8"); /* mov gs */
    RUN1(c, "\xCA\x08\x00");
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->rip, UCODE + 7);
    CHECK_EQ(c->gpr[GPR_RSP], USTACK);
    CHECK_EQ(c->seg[SEG_GS].selector, 0);
    CHECK(c->seg[SEG_GS].attr & SEG_UNUSABLE);
    CHECK_EQ(c->seg[SEG_DS].selector, SEL_DATA3 | 3);
    done(c);
}

/* SDM 3A 5.8.3.1: 16-byte call gates of IA-32e mode. */
TEST(call_gate_64)
{
    struct cpu *c = long64();
    set_gdt(c, SEL_GATE, gate(SEL_CODE64, 0x9000, 0xEC));
    set_gdt(c, SEL_GATE + 8, 0);
    to_user(c);
    poke32(c, DATA, 0);
    mem_st(c->emu, DATA + 4, SEL_GATE | 3, 2);
    c->gpr[GPR_RBX] = DATA;
    RUN1(c, "\xFF\x1B"); /* call far [rbx] */
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 - 32);
    CHECK_EQ(top(c, 0), UCODE + 2);
    CHECK_EQ(top(c, 2), USTACK);
    CHECK_EQ(c->seg[SEG_SS].selector, 0);
    RUN1(c, "\x48\xCB");
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->rip, UCODE + 2);
    CHECK_EQ(c->gpr[GPR_RSP], USTACK);
    done(c);
}

static void fill_tss32(struct cpu *c, uint64_t at, uint32_t eip, uint16_t cs, uint16_t ss, uint32_t eflags)
{
    unsigned k;
    poke32(c, at + 0x1C, 0);
    poke32(c, at + 0x20, eip);
    poke32(c, at + 0x24, eflags);
    for (k = 0; k < 8; k++)
        poke32(c, at + 0x28 + k * 4, 0x1000 + k);
    poke32(c, at + 0x38, STACK0 - 0x100); /* ESP */
    poke32(c, at + 0x48, SEL_DATA0);
    poke32(c, at + 0x4C, cs);
    poke32(c, at + 0x50, ss);
    poke32(c, at + 0x54, SEL_DATA0);
    poke32(c, at + 0x58, 0);
    poke32(c, at + 0x5C, 0);
    poke32(c, at + 0x60, 0);
    poke32(c, at + 0x64, 0x680000);
}

/* SDM 3A 7.3, table 7-2: CALL nests (link, NT, both busy), IRET goes back. */
TEST(task_switch_by_call_and_iret)
{
    struct cpu *c = prot32();
    fill_tss32(c, TSS2, 0x9000, SEL_CODE0, SEL_DATA0, 2);
    c->gpr[GPR_RBX] = 0x77;
    RUN1(c, "\x9A\x00\x00\x00\x00\x60\x00"); /* call TSS2 */
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(c->gpr[GPR_RBX], 0x1003);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 - 0x100);
    CHECK(c->eflags & FLAG_NT);
    CHECK_EQ(c->seg[SEG_TR].selector, SEL_TSS2);
    CHECK(c->cr0 & CR0_TS);
    CHECK_EQ(peek16(c, TSS2), SEL_TSS);
    CHECK_EQ(peek64(c, GDT + SEL_TSS2) >> 40 & 15, 11);
    CHECK_EQ(peek64(c, GDT + SEL_TSS) >> 40 & 15, 11);
    CHECK_EQ(peek32(c, TSS + 0x20), CODE + 7); /* saved EIP */
    CHECK_EQ(peek32(c, TSS + 0x34), 0x77);     /* saved EBX */
    RUN1(c, "\xCF");
    CHECK_EQ(c->rip, CODE + 7);
    CHECK_EQ(c->gpr[GPR_RBX], 0x77);
    CHECK_EQ(c->seg[SEG_TR].selector, SEL_TSS);
    CHECK(!(c->eflags & FLAG_NT));
    CHECK_EQ(peek64(c, GDT + SEL_TSS2) >> 40 & 15, 9);
    CHECK_EQ(peek32(c, TSS2 + 0x20), 0x9001);
    CHECK(!(peek32(c, TSS2 + 0x24) & FLAG_NT));
    done(c);
}

/* JMP: the old task is no longer busy; a task gate works as well; a bad SS in the new task is #TS(selector) there. */
TEST(task_switch_by_jump_and_faults_in_new_task)
{
    struct cpu *c = prot32();
    fill_tss32(c, TSS2, 0x9000, SEL_CODE0, SEL_DATA0, 2);
    set_gdt(c, SEL_TASKGATE, gate(SEL_TSS2, 0, 0x85));
    RUN1(c, "\xEA\x00\x00\x00\x00\x98\x00");
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(peek64(c, GDT + SEL_TSS) >> 40 & 15, 9);
    CHECK(!(c->eflags & FLAG_NT));
    c->rip = CODE;
    fill_tss32(c, TSS, 0x9100, SEL_CODE0, SEL_RO, 2);
    RUN1(c, "\xEA\x00\x00\x00\x00\x28\x00");
    CHECK_EQ(c->seg[SEG_TR].selector, SEL_TSS); /* the switch happened */
    CHECK(c->shutdown || vector_at(c) == EXC_TS || vector_at(c) == EXC_DF); /* its stack is unusable: #TS cannot be pushed either */
    done(c);
}

/* An interrupt through a task gate pushes the error code on the new task's stack (SDM 3A 7.2.5, 6.12.2). */
TEST(task_gate_in_idt_pushes_error_code)
{
    struct cpu *c = prot32();
    fill_tss32(c, TSS2, 0x9000, SEL_CODE0, SEL_DATA0, 2);
    poke64(c, IDT + EXC_GP * 8, gate(SEL_TSS2, 0, 0x85));
    c->gpr[GPR_RAX] = 0x1230;
    RUN1(c, "\x8E\xD8");
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 - 0x104);
    CHECK_EQ(top(c, 0), 0x1230);
    CHECK(c->eflags & FLAG_NT);
    CHECK_EQ(peek32(c, TSS + 0x20), CODE); /* the faulting instruction */
    done(c);
}

/* 286 TSS: 16-bit registers, no FS/GS. */
TEST(task_switch_to_16_bit_tss)
{
    struct cpu *c = prot32();
    unsigned k;
    mem_st(c->emu, TSS3 + 0x0E, 0x9000, 2);
    mem_st(c->emu, TSS3 + 0x10, 2, 2);
    for (k = 0; k < 8; k++)
        mem_st(c->emu, TSS3 + 0x12 + k * 2, 0x100 + k, 2);
    mem_st(c->emu, TSS3 + 0x22, SEL_DATA0, 2);
    mem_st(c->emu, TSS3 + 0x24, SEL_CODE16, 2);
    mem_st(c->emu, TSS3 + 0x26, SEL_DATA16, 2);
    mem_st(c->emu, TSS3 + 0x28, SEL_DATA0, 2);
    mem_st(c->emu, TSS3 + 0x2A, 0, 2);
    RUN1(c, "\xEA\x00\x00\x00\x00\xB0\x00");
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(c->code_size, 2);
    CHECK_EQ(c->gpr[GPR_RBX] & 0xFFFF, 0x103);
    CHECK_EQ(c->seg[SEG_TR].attr & 15, 3);
    done(c);
}

/* ---------------------------------------------------------------- virtual-8086 mode */

static struct cpu *v86(unsigned iopl)
{
    struct cpu *c = prot32();
    unsigned k;
    static const uint32_t frame[9] = { 0x10, 0x2000, 0, 0x100, 0x3000, 0x111, 0x222, 0x333, 0x444 }; /* EIP CS FLAGS ESP SS ES DS FS GS */
    for (k = 0; k < 9; k++)
        poke32(c, STACK - 36 + k * 4, k == 2 ? FLAG_VM | 2 | iopl << 12 | FLAG_IF : frame[k]);
    c->gpr[GPR_RSP] = STACK - 36;
    RUN1(c, "\xCF");
    return c;
}

/* SDM 3B 20.2.5, 20.3.1: IRET with VM set enters, an interrupt leaves with the nine-word frame. */
TEST(v86_entry_and_exit)
{
    struct cpu *c = v86(3);
    CHECK_EQ(c->mode, MODE_V86);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->seg[SEG_CS].base, 0x20000);
    CHECK_EQ(c->seg[SEG_GS].selector, 0x444);
    CHECK_EQ(c->seg[SEG_GS].base, 0x4440);
    CHECK_EQ(c->rip, 0x10);
    RUN1(c, "\xCD\x80");
    CHECK_VECTOR(c, 0x80);
    CHECK_EQ(c->mode, MODE_PROT);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0 - 36);
    CHECK_EQ(top(c, 0), 0x12);
    CHECK_EQ(top(c, 1), 0x2000);
    CHECK(top(c, 2) & FLAG_VM);
    CHECK_EQ(top(c, 3), 0x100);
    CHECK_EQ(top(c, 4), 0x3000);
    CHECK_EQ(top(c, 5), 0x111);
    CHECK_EQ(top(c, 8), 0x444);
    CHECK(c->seg[SEG_DS].attr & SEG_UNUSABLE);
    done(c);
}

/* SDM 3B 20.2.7: CLI, PUSHF, INT n, IRET are sensitive to IOPL. */
TEST(v86_iopl_sensitive_instructions)
{
    struct cpu *c = v86(0);
    static const char *const code[] = { "\xFA", "\x9C", "\x9D", "\xCD\x21", "\xCF", "\xFB" };
    unsigned k;
    for (k = 0; k < 6; k++) {
        run(c, 1, code[k], 2);
        CHECK_VECTOR(c, EXC_GP);
        CHECK_EQ(top(c, 0), 0);
        CHECK_EQ(top(c, 1), 0x10);
        c->gpr[GPR_RSP] += 4;
        RUN1(c, "\xCF");
        CHECK_EQ(c->mode, MODE_V86);
    }
    run(c, 1, "\xCC", 1); /* INT3 is not sensitive */
    CHECK_VECTOR(c, EXC_BP);
    done(c);
}

/* SDM 3B 20.3.3.4: with VME, an INT n whose bit is clear in the redirection bitmap goes to the program's own vector table; VIF is its IF. */
TEST(v86_vme)
{
    struct cpu *c = v86(0);
    unsigned k;
    c->cr4 |= CR4_VME;
    mem_st(c->emu, TSS + 0x66, 0x88, 2);
    for (k = 0x68; k < 0x88; k++)
        mem_st(c->emu, TSS + k, 0, 1);
    poke32(c, 0x21 * 4, 0x40000123);
    RUN1(c, "\xFB"); /* sti: VIF */
    CHECK(c->eflags & FLAG_VIF);
    RUN1(c, "\xCD\x21");
    CHECK_EQ(c->mode, MODE_V86);
    CHECK_EQ(c->seg[SEG_CS].selector, 0x4000);
    CHECK_EQ(c->rip, 0x123);
    CHECK(!(c->eflags & FLAG_VIF));
    CHECK_EQ(peek16(c, 0x30000 + 0x100 - 2) & (FLAG_IF | FLAG_IOPL), FLAG_IF | FLAG_IOPL);
    RUN1(c, "\xCF");
    CHECK_EQ(c->seg[SEG_CS].selector, 0x2000);
    CHECK(c->eflags & FLAG_VIF);
    c->eflags |= FLAG_VIP; /* pending: setting VIF faults */
    c->eflags &= ~(uint32_t)FLAG_VIF;
    RUN1(c, "\xFB");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* ---------------------------------------------------------------- SYSCALL, SYSENTER */

/* SDM 2B SYSCALL, SYSRET. */
TEST(syscall_and_sysret)
{
    struct cpu *c = long64();
    c->star = UINT64_C(0x0030000800000000) | (uint64_t)SEL_CODE64 << 32;
    c->star = (uint64_t)SEL_CODE64 << 32 | (uint64_t)0x30 << 48;
    c->lstar = 0x9000;
    c->fmask = FLAG_IF | FLAG_DF;
    to_user(c);
    c->eflags |= FLAG_DF;
    cpu_set_arith_flags(c, FLAG_CF);
    RUN1(c, "\x0F\x05");
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->gpr[GPR_RCX], UCODE + 2);
    CHECK_EQ(c->gpr[GPR_R11] & (FLAG_IF | FLAG_DF | FLAG_CF), FLAG_IF | FLAG_DF | FLAG_CF);
    CHECK(!(c->eflags & (FLAG_IF | FLAG_DF)));
    CHECK_EQ(c->seg[SEG_CS].selector, SEL_CODE64);
    CHECK_EQ(c->seg[SEG_SS].selector, SEL_CODE64 + 8);
    RUN1(c, "\x48\x0F\x07");
    CHECK_EQ(c->rip, UCODE + 2);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->seg[SEG_CS].selector, 0x43);
    CHECK_EQ(c->seg[SEG_SS].selector, 0x3B);
    CHECK(c->eflags & FLAG_DF);
    RUN1(c, "\x0F\x05");
    c->gpr[GPR_RCX] = UINT64_C(0x0000800000000000);
    RUN1(c, "\x48\x0F\x07");
    CHECK_VECTOR(c, EXC_GP); /* Intel: at CPL 0 */
    CHECK_EQ(top(c, 0), 0);
    CHECK_EQ(c->seg[SEG_SS].selector, SEL_CODE64 + 8);
    c->efer &= ~(uint64_t)EFER_SCE;
    to_user(c);
    RUN1(c, "\x0F\x05");
    CHECK_VECTOR(c, EXC_UD);
    done(c);
}

TEST(sysenter_and_sysexit)
{
    struct cpu *c = prot32();
    c->sysenter_cs = 0x08;
    c->sysenter_esp = STACK0;
    c->sysenter_eip = 0x9000;
    to_user(c);
    RUN1(c, "\x0F\x34");
    CHECK_EQ(c->rip, 0x9000);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->gpr[GPR_RSP], STACK0);
    CHECK_EQ(c->seg[SEG_SS].selector, 0x10);
    CHECK(!(c->eflags & FLAG_IF));
    c->gpr[GPR_RCX] = USTACK;
    c->gpr[GPR_RDX] = UCODE + 2;
    RUN1(c, "\x0F\x35");
    CHECK_EQ(c->rip, UCODE + 2);
    CHECK_EQ(c->seg[SEG_CS].selector, 0x1B);
    CHECK_EQ(c->seg[SEG_SS].selector, 0x23);
    CHECK_EQ(c->gpr[GPR_RSP], USTACK);
    RUN1(c, "\x0F\x35"); /* at CPL 3 */
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* ---------------------------------------------------------------- flags, I/O */

/* SDM 2B POPF table: IF by IOPL, IOPL by CPL 0, RF and VM never. */
TEST(popf_masks_by_privilege)
{
    struct cpu *c = prot32();
    poke32(c, STACK - 4, 0xFFFFFFFFu);
    c->gpr[GPR_RSP] = STACK - 4;
    RUN1(c, "\x9D");
    CHECK_EQ(cpu_eflags(c), (FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID | 2));
    c->eflags = 2;
    to_user(c);
    c->eflags = 2;
    cpu_set_arith_flags(c, 0);
    poke32(c, USTACK - 4, 0xFFFFFFFFu & ~(uint32_t)FLAG_TF);
    c->gpr[GPR_RSP] = USTACK - 4;
    RUN1(c, "\x9D");
    CHECK_EQ(cpu_eflags(c), (FLAGS_ARITH | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | 2));
    done(c);
}

/* SDM 2A CLI/STI and 3A 6.8.1; shadow of STI only when IF was clear. */
TEST(cli_sti_and_shadow)
{
    struct cpu *c = prot32();
    RUN1(c, "\xFB");
    CHECK(c->eflags & FLAG_IF);
    CHECK_EQ(c->interrupt_shadow, CPU_SHADOW_STI);
    RUN1(c, "\x90");
    CHECK_EQ(c->interrupt_shadow, 0);
    RUN1(c, "\xFB");
    CHECK_EQ(c->interrupt_shadow, 0);
    to_user(c);
    RUN1(c, "\xFA");
    CHECK_VECTOR(c, EXC_GP);
    to_user(c);
    c->eflags |= FLAG_IOPL;
    RUN1(c, "\xFA");
    CHECK(!(c->eflags & FLAG_IF));
    done(c);
}

/* STAC and CLAC are not for users, whatever IOPL is (SDM 2B STAC). */
TEST(stac_and_clac_by_privilege)
{
    struct cpu *c = prot32();
    to_user(c);
    RUN1(c, "\x0F\x01\xCB");
    CHECK_VECTOR(c, EXC_UD);
    to_user(c);
    c->eflags |= FLAG_IOPL;
    RUN1(c, "\x0F\x01\xCA");
    CHECK_VECTOR(c, EXC_UD);
    c = long64();
    to_user(c);
    RUN1(c, "\x0F\x01\xCB");
    CHECK_VECTOR(c, EXC_UD);
    c = long64();
    to_user(c);
    RUN1(c, "\xFA");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* SDM 1 19.5.2: the I/O permission bitmap. */
TEST(io_permission_bitmap)
{
    struct cpu *c = prot32();
    CHECK_EQ(cpu_check_io(c, 0x60, 1), CPU_OK);
    to_user(c);
    mem_st(c->emu, TSS + 0x68 + 0x60 / 8, 0xFE, 1); /* port 60 only */
    CHECK_EQ(cpu_check_io(c, 0x60, 1), CPU_OK);
    CHECK_EQ(cpu_check_io(c, 0x60, 2), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_GP);
    CHECK_EQ(cpu_check_io(c, 0x61, 1), CPU_FAULT);
    c->seg[SEG_TR].limit = 0x68 + 0x60 / 8; /* the second byte lies beyond */
    CHECK_EQ(cpu_check_io(c, 0x60, 1), CPU_FAULT);
    c->eflags |= FLAG_IOPL;
    CHECK_EQ(cpu_check_io(c, 0x61, 4), CPU_OK);
    done(c);
}

TEST(privileged_instructions_fault_for_users)
{
    static const struct { const char *bytes; unsigned vector; } cases[] = {
        { "\xF4", EXC_GP }, { "\x0F\x06", EXC_GP }, { "\x0F\x20\xC0", EXC_GP }, { "\x0F\x22\xC0", EXC_GP }, { "\x0F\x21\xC0", EXC_GP }, { "\x0F\x30", EXC_GP }, { "\x0F\x32", EXC_GP },
        { "\x0F\x09", EXC_GP }, { "\x0F\x01\x38", EXC_GP }, { "\x0F\x01\xF0", EXC_GP }, { "\x0F\x00\xD8", EXC_GP }, { "\x0F\x01\xD1", EXC_UD }, { "\x0F\x01\xCB", EXC_UD }, { "\x0F\x01\xF8", EXC_GP },
        { "\xE4\x60", EXC_GP }, { "\x0F\x07", EXC_GP }, { "\x0F\x35", EXC_GP }, { "\x0F\x33", EXC_GP }, { "\x0F\xAA", EXC_UD }, { "\x0F\x20\xC8", EXC_UD }
    };
    struct cpu *c = long64();
    unsigned k;
    for (k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        to_user(c);
        run(c, 1, cases[k].bytes, strlen(cases[k].bytes));
        if (vector_at(c) != cases[k].vector)
            printf("case %u\n", k);
        CHECK_VECTOR(c, cases[k].vector);
        CHECK_EQ(c->seg[SEG_CS].selector, SEL_CODE64);
    }
    c->cr4 |= CR4_UMIP; /* SDM 3A 2.5: SGDT, SIDT, SLDT, SMSW, STR */
    to_user(c);
    RUN1(c, "\x0F\x01\xE0");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* ---------------------------------------------------------------- control registers, MSRs, CPUID */

/* SDM 2B MOV CRn, exceptions; 3A 4.1.2 on mode changes. */
TEST(control_register_consistency)
{
    struct cpu *c = prot32();
    c->gpr[GPR_RAX] = CR0_PG; /* PG without PE */
    RUN1(c, "\x0F\x22\xC0");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RAX] = c->cr0 | CR0_NW;
    RUN1(c, "\x0F\x22\xC0");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RAX] = UINT64_C(1) << 27; /* reserved in CR4 */
    RUN1(c, "\x0F\x22\xE0");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RAX] = CR4_PCIDE; /* outside of long mode */
    RUN1(c, "\x0F\x22\xE0");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->efer |= EFER_LME; /* PG with LME but no PAE */
    c->gpr[GPR_RAX] = c->cr0 | CR0_PG;
    RUN1(c, "\x0F\x22\xC0");
    CHECK_VECTOR(c, EXC_GP);
    CHECK(!(c->efer & EFER_LMA));
    c->rip = CODE;
    c->cr0 |= CR0_TS;
    RUN1(c, "\x0F\x06");
    CHECK(!(c->cr0 & CR0_TS));
    c->gpr[GPR_RAX] = 0xFFFE;
    RUN1(c, "\x0F\x01\xF0"); /* lmsw cannot clear PE */
    CHECK_EQ(c->cr0 & 15, 15);
    done(c);
    c = long64();
    c->gpr[GPR_RAX] = c->cr4 & ~(uint64_t)CR4_PAE;
    RUN1(c, "\x0F\x22\xE0");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RAX] = c->cr0 & ~(uint64_t)CR0_PG; /* from 64-bit code */
    RUN1(c, "\x0F\x22\xC0");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RCX] = 0xC0000080u; /* LME while paging */
    c->gpr[GPR_RAX] = EFER_SCE;
    c->gpr[GPR_RDX] = 0;
    RUN1(c, "\x0F\x30");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

static int rdmsr(struct cpu *c, uint32_t msr, uint64_t *v)
{
    c->rip = CODE;
    c->gpr[GPR_RCX] = msr;
    RUN1(c, "\x0F\x32");
    *v = (uint32_t)c->gpr[GPR_RAX] | c->gpr[GPR_RDX] << 32;
    return vector_at(c) == EXC_GP ? -1 : 0;
}
static int wrmsr(struct cpu *c, uint32_t msr, uint64_t v)
{
    c->rip = CODE;
    c->gpr[GPR_RCX] = msr;
    c->gpr[GPR_RAX] = (uint32_t)v;
    c->gpr[GPR_RDX] = v >> 32;
    RUN1(c, "\x0F\x30");
    return vector_at(c) == EXC_GP ? -1 : 0;
}

/* SDM vol. 4. */
TEST(msrs_read_write_and_fault)
{
    struct cpu *c = long64();
    uint64_t v;
    CHECK(wrmsr(c, 0xC0000082u, UINT64_C(0xFFFF800000001234)) == 0);
    CHECK(rdmsr(c, 0xC0000082u, &v) == 0);
    CHECK_EQ(v, UINT64_C(0xFFFF800000001234));
    CHECK(wrmsr(c, 0xC0000082u, UINT64_C(0x0000800000000000)) < 0); /* not canonical */
    CHECK(wrmsr(c, 0xC0000100u, 0x123456) == 0);
    CHECK_EQ(c->seg_base[SEG_FS], 0x123456);
    CHECK(wrmsr(c, 0xC0000080u, UINT64_C(1) << 20) < 0);
    CHECK(wrmsr(c, 0x277, 0x0707070707070702u) < 0); /* PAT type 2 */
    CHECK(wrmsr(c, 0x277, UINT64_C(0x0007050600070406)) == 0);
    CHECK(rdmsr(c, 0xFE, &v) == 0);
    CHECK_EQ(v & 0xFF, 8);
    CHECK(wrmsr(c, 0x2FF, 0xC06) == 0 && rdmsr(c, 0x2FF, &v) == 0);
    CHECK_EQ(v, 0xC06);
    CHECK(wrmsr(c, 0x201, UINT64_C(1) << 45) < 0); /* beyond the physical address width */
    CHECK(rdmsr(c, 0x12345, &v) < 0);
    CHECK(wrmsr(c, 0x3B, 1000) == 0 && rdmsr(c, 0x3B, &v) == 0);
    CHECK_EQ(v, 1000);
    CHECK(wrmsr(c, 0x10, 5) == 0 && rdmsr(c, 0x10, &v) == 0);
    CHECK(v >= 5 && v < 1000000000);
    CHECK(rdmsr(c, 0x10A, &v) == 0);
    CHECK(v & 1); /* RDCL_NO */
    CHECK(wrmsr(c, 0x401, 1) < 0);
    CHECK(wrmsr(c, 0x401, 0) == 0);
    done(c);
}

/* SDM 2A CPUID. */
TEST(cpuid_leaves)
{
    struct cpu *c = bare_cpu();
    uint32_t r[4];
    CHECK(c != NULL);
    cpu_cpuid(c, 0, 0, r);
    CHECK_EQ(r[1], 0x756E6547); /* Genu */
    CHECK_EQ(r[3], 0x49656E69);
    CHECK_EQ(r[2], 0x6C65746E);
    CHECK(r[0] >= 0xD);
    cpu_cpuid(c, 1, 0, r);
    CHECK_EQ((r[3] >> 25) & 3, 3);      /* SSE, SSE2 */
    CHECK_EQ((r[2] >> 27) & 1, 0);      /* OSXSAVE follows CR4 */
    c->cr4 |= CR4_OSXSAVE;
    cpu_cpuid(c, 1, 0, r);
    CHECK_EQ((r[2] >> 27) & 1, 1);
    cpu_cpuid(c, 0xD, 0, r);
    CHECK_EQ(r[0] & 3, 3);
    CHECK_EQ(r[1], 576);                /* XCR0 = 1: legacy area and header */
    cpu_cpuid(c, 0x80000008u, 0, r);
    CHECK_EQ(r[0] & 0xFF, 40);
    cpu_cpuid(c, 0x15, 0, r);
    CHECK_EQ((uint64_t)r[2] * r[1] / r[0], cpu_tsc_hz());
    cpu_cpuid(c, 0x40000000u, 0, r);
    CHECK_EQ(r[1], 0x45554D45); /* EMUE */
    cpu_cpuid(c, 0x80000002u, 0, r);
    CHECK(r[0] != 0);
    done(c);
}

TEST(cpu_models_and_flags_of_the_command_line)
{
    struct cpu *c = bare_cpu();
    struct err err;
    struct buf b;
    uint32_t r[4];
    CHECK(c != NULL);
    CHECK_EQ(cpu_set_model(c, "qemu64,-sse3,+popcnt,vendor=GenuineIntel,model-id=My CPU", &err), 0);
    CHECK(!cpu_has(c, CPU_SSE3) && cpu_has(c, CPU_POPCNT) && cpu_has(c, CPU_LM));
    cpu_cpuid(c, 0, 0, r);
    CHECK_EQ(r[1], 0x756E6547);
    CHECK_EQ(cpu_set_model(c, "Nehalem,check", &err), 0);
    CHECK(cpu_has(c, CPU_SSE42) && !cpu_has(c, CPU_AES));
    cpu_cpuid(c, 1, 0, r);
    CHECK_EQ(r[0], 0x106A3);
    CHECK_EQ(cpu_set_model(c, "pentium", &err), 0);
    CHECK(!cpu_has(c, CPU_LM) && cpu_has(c, CPU_MMX));
    cpu_cpuid(c, 1, 0, r);
    CHECK_EQ(r[0], 0x543);
    CHECK_EQ(cpu_set_model(c, "EPYC", &err), 0);
    cpu_cpuid(c, 0, 0, r);
    CHECK_EQ(r[1], 0x68747541); /* Auth */
    CHECK_EQ(cpu_set_model(c, "host", &err), 0);
    CHECK_EQ(cpu_set_model(c, "Skylake-Client-v1,rdtscp=off", &err), 0);
    CHECK(!cpu_has(c, CPU_RDTSCP));
    CHECK(cpu_set_model(c, "z80", &err) != 0);
    CHECK(strstr(err.text, "z80") != NULL);
    CHECK(cpu_set_model(c, "max,+nonsense", &err) != 0);
    CHECK(strstr(err.text, "nonsense") != NULL);
    buf_init(&b, c->emu);
    cpu_print_models(&b);
    CHECK(b.size > 100 && !b.failed);
    buf_free(&b);
    done(c);
}

/* A feature that is switched off takes its instructions along. */
TEST(instructions_without_cpuid_bit_are_undefined)
{
    struct cpu *c = long64_model("qemu64");
    RUN1(c, "\x0F\xC7\xF0"); /* rdrand */
    CHECK_VECTOR(c, EXC_UD);
    c->rip = CODE;
    c->gpr[GPR_RAX] = c->cr4 | CR4_SMEP;
    RUN1(c, "\x0F\x22\xE0");
    CHECK_VECTOR(c, EXC_GP);
    c = long64();
    RUN1(c, "\x48\x0F\xC7\xF0");
    CHECK_EQ(c->rip, CODE + 4);
    CHECK_EQ(cpu_arith_flags(c), FLAG_CF);
    done(c);
}

/* ---------------------------------------------------------------- FXSAVE, XSAVE */

/* SDM 1 10.5.1, 13.7-13.11. */
TEST(fxsave_and_xsave_round_trip)
{
    struct cpu *c = long64();
    unsigned k;
    c->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
    c->cr0 &= ~(uint64_t)(CR0_EM | CR0_TS);
    c->xcr0 = 3;
    cpu_update_mode(c);
    x87_reset(c, false);
    for (k = 0; k < 16; k++) {
        c->xmm[k].q[0] = 0x1111 * (k + 1);
        c->xmm[k].q[1] = ~c->xmm[k].q[0];
    }
    c->mxcsr = 0x1FA0;
    poke64(c, DATA + 464, UINT64_C(0x5555555555555555)); /* bytes for software: not touched */
    c->gpr[GPR_RBX] = DATA;
    RUN1(c, "\x48\x0F\xAE\x03"); /* fxsave64 [rbx] */
    CHECK_EQ(c->rip, CODE + 4);
    CHECK_EQ(peek16(c, DATA), 0x37F);
    CHECK_EQ(peek32(c, DATA + 24), 0x1FA0);
    CHECK_EQ(peek64(c, DATA + 160 + 16 * 15), UINT64_C(0x11110));
    CHECK_EQ(peek64(c, DATA + 464), UINT64_C(0x5555555555555555));
    c->gpr[GPR_RBX] = DATA + 8;
    RUN1(c, "\x48\x0F\xAE\x03"); /* not aligned to 16 */
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RBX] = DATA + 0x1000;
    c->gpr[GPR_RAX] = 7;
    c->gpr[GPR_RDX] = 0;
    RUN1(c, "\x48\x0F\xAE\x23"); /* xsave64 */
    CHECK_EQ(c->rip, CODE + 4);
    CHECK_EQ(peek64(c, DATA + 0x1000 + 512) & 2, 2);
    CHECK_EQ(peek64(c, DATA + 0x1000 + 160), 0x1111);
    memset(c->xmm, 0, sizeof c->xmm);
    c->mxcsr = 0x1F80;
    RUN1(c, "\x48\x0F\xAE\x2B"); /* xrstor64 */
    CHECK_EQ(c->xmm[3].q[0], 0x4444);
    CHECK_EQ(c->mxcsr, 0x1FA0);
    poke64(c, DATA + 0x1000 + 512, 0); /* XSTATE_BV 0: initial configuration, but MXCSR from memory (standard form) */
    RUN1(c, "\x48\x0F\xAE\x2B");
    CHECK_EQ(c->xmm[3].q[0], 0);
    CHECK_EQ(c->mxcsr, 0x1FA0);
    poke64(c, DATA + 0x1000 + 512, 0x10); /* a bit outside of XCR0 */
    RUN1(c, "\x48\x0F\xAE\x2B");
    CHECK_VECTOR(c, EXC_GP);
    c->rip = CODE;
    c->gpr[GPR_RCX] = 0;
    RUN1(c, "\x0F\x01\xD0"); /* xgetbv */
    CHECK_EQ(c->gpr[GPR_RAX], 3);
    c->gpr[GPR_RAX] = 2; /* x87 bit is mandatory */
    RUN1(c, "\x0F\x01\xD1");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* ---------------------------------------------------------------- odd instructions */

TEST(enter_bcd_bound_and_friends)
{
    struct cpu *c = prot32();
    c->gpr[GPR_RBP] = STACK - 0x100;
    poke32(c, STACK - 0x104, 0xF1);
    RUN1(c, "\xC8\x10\x00\x02"); /* enter 16, 2 */
    CHECK_EQ(c->gpr[GPR_RBP], STACK - 4);
    CHECK_EQ(c->gpr[GPR_RSP], STACK - 12 - 16);
    CHECK_EQ(peek32(c, STACK - 4), STACK - 0x100);
    CHECK_EQ(peek32(c, STACK - 8), 0xF1);
    CHECK_EQ(peek32(c, STACK - 12), STACK - 4);
    c->gpr[GPR_RAX] = 0x9A; /* SDM 2A DAA */
    cpu_set_arith_flags(c, 0);
    RUN1(c, "\x27");
    CHECK_EQ(c->gpr[GPR_RAX] & 0xFF, 0);
    CHECK_EQ(cpu_arith_flags(c) & (FLAG_CF | FLAG_AF | FLAG_ZF), FLAG_CF | FLAG_AF | FLAG_ZF);
    c->gpr[GPR_RAX] = 0x010F;
    cpu_set_arith_flags(c, 0);
    RUN1(c, "\x37"); /* aaa */
    CHECK_EQ(c->gpr[GPR_RAX] & 0xFFFF, 0x0205);
    c->gpr[GPR_RAX] = 123;
    RUN1(c, "\xD4\x0A"); /* aam */
    CHECK_EQ(c->gpr[GPR_RAX] & 0xFFFF, 0x0C03);
    RUN1(c, "\xD5\x0A"); /* aad */
    CHECK_EQ(c->gpr[GPR_RAX] & 0xFFFF, 123);
    RUN1(c, "\xD4\x00");
    CHECK_VECTOR(c, EXC_DE);
    c->rip = CODE;
    poke32(c, DATA, 10);
    poke32(c, DATA + 4, 20);
    c->gpr[GPR_RBX] = DATA;
    c->gpr[GPR_RAX] = 20;
    RUN1(c, "\x62\x03");
    CHECK_EQ(c->rip, CODE + 2);
    c->gpr[GPR_RAX] = 21;
    RUN1(c, "\x62\x03");
    CHECK_VECTOR(c, EXC_BR);
    c->rip = CODE;
    c->gpr[GPR_RSP] = STACK;
    for (int k = 0; k < 8; k++)
        if (k != GPR_RSP)
            c->gpr[k] = 0x100u + (unsigned)k;
    RUN1(c, "\x60"); /* pusha */
    CHECK_EQ(c->gpr[GPR_RSP], STACK - 32);
    CHECK_EQ(peek32(c, STACK - 20), STACK);
    c->gpr[GPR_RAX] = 0;
    RUN1(c, "\x61");
    CHECK_EQ(c->gpr[GPR_RAX], 0x100);
    CHECK_EQ(c->gpr[GPR_RSP], STACK);
    c->gpr[GPR_RBX] = DATA;
    c->gpr[GPR_RAX] = 4;
    RUN1(c, "\xD7"); /* xlat */
    CHECK_EQ(c->gpr[GPR_RAX], 20);
    done(c);
}

TEST(alignment_check)
{
    struct cpu *c = prot32();
    uint64_t v;
    c->cr0 |= CR0_AM;
    to_user(c);
    c->eflags |= FLAG_AC;
    cpu_update_mode(c);
    CHECK(c->mode_key & KEY_AC);
    CHECK_EQ(cpu_load(c, SEG_DS, DATA + 1, 4, &v), CPU_FAULT);
    CHECK_EQ(c->fault.vector, EXC_AC);
    CHECK_EQ(c->fault.error, 0);
    CHECK_EQ(cpu_load(c, SEG_DS, DATA + 4, 4, &v), CPU_OK);
    CHECK_EQ(cpu_load(c, SEG_DS, DATA + 1, 1, &v), CPU_OK);
    done(c);
}

TEST(rdtsc_follows_cr4_tsd_and_hlt_halts)
{
    struct cpu *c = long64();
    RUN1(c, "\x0F\x01\xF9"); /* rdtscp */
    CHECK_EQ(c->rip, CODE + 3);
    CHECK_EQ(c->gpr[GPR_RCX], 0);
    RUN1(c, "\xF4");
    CHECK(c->halted);
    c->halted = false;
    c->cr4 |= CR4_TSD;
    to_user(c);
    RUN1(c, "\x0F\x31");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* ---------------------------------------------------------------- more corners */

/* SDM 2A IRET, RETURN-TO-OUTER-PRIVILEGE from 64-bit mode to compatibility mode, and the far return back into 64-bit code. */
TEST(iretq_to_compatibility_mode_and_back_by_far_jump)
{
    struct cpu *c = long64();
    poke64(c, STACK - 40, UCODE);
    poke64(c, STACK - 32, SEL_CODE3 | 3);
    poke64(c, STACK - 24, 0x202);
    poke64(c, STACK - 16, USTACK);
    poke64(c, STACK - 8, SEL_DATA3 | 3);
    c->gpr[GPR_RSP] = STACK - 40;
    RUN1(c, "\x48\xCF");
    CHECK_EQ(c->mode, MODE_COMPAT);
    CHECK_EQ(c->code_size, 4);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->gpr[GPR_RSP], USTACK);
    RUN1(c, "\x40"); /* inc eax here, a REX prefix there */
    CHECK_EQ(c->rip, UCODE + 1);
    RUN1(c, "\xEA\x00\x10\x02\x00\x43\x00"); /* jmp 43:21000 */
    CHECK_EQ(c->mode, MODE_LONG);
    CHECK_EQ(c->rip, 0x21000);
    CHECK_EQ(c->cpl, 3);
    done(c);
}

/* SDM 2A IRET: NT in 64-bit mode is #GP(0); a null SS is allowed for 64-bit targets below CPL 3 only. */
TEST(iretq_checks)
{
    struct cpu *c = long64();
    c->eflags |= FLAG_NT;
    RUN1(c, "\x48\xCF");
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0);
    c->rip = CODE;
    c->eflags &= ~(uint32_t)FLAG_NT;
    poke64(c, STACK - 40, 0x9000);
    poke64(c, STACK - 32, SEL_CODE64);
    poke64(c, STACK - 24, 2);
    poke64(c, STACK - 16, STACK0);
    poke64(c, STACK - 8, 0);
    c->gpr[GPR_RSP] = STACK - 40;
    RUN1(c, "\x48\xCF");
    CHECK_EQ(c->rip, 0x9000);
    CHECK(c->seg[SEG_SS].attr & SEG_UNUSABLE);
    c->rip = CODE;
    poke64(c, STACK - 40, UINT64_C(0x0000800000000000)); /* not canonical: at the old CPL */
    poke64(c, STACK - 8, SEL_DATA0);
    c->gpr[GPR_RSP] = STACK - 40;
    RUN1(c, "\x48\xCF");
    CHECK_VECTOR(c, EXC_GP);
    CHECK_EQ(top(c, 0), 0);
    c->rip = CODE;
    poke64(c, STACK - 40, UCODE);
    poke64(c, STACK - 32, SEL_CODE64_3 | 3);
    poke64(c, STACK - 8, 3);
    c->gpr[GPR_RSP] = STACK - 40;
    RUN1(c, "\x48\xCF"); /* null SS for CPL 3 */
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* SDM 2A CALL and JMP through a far pointer of 64 bits with REX.W (Intel), LSS with REX.W. */
TEST(far_pointers_with_64_bit_offsets)
{
    struct cpu *c = long64();
    poke64(c, PT + 0x210 * 8, 0x210000 | 7);
    poke64(c, DATA, 0x210000);
    mem_st(c->emu, DATA + 8, SEL_CODE64, 2);
    c->gpr[GPR_RBX] = DATA;
    RUN1(c, "\x48\xFF\x2B"); /* jmp far [rbx] */
    CHECK_EQ(c->rip, 0x210000);
    c->rip = CODE;
    mem_st(c->emu, DATA + 8, SEL_DATA0, 2);
    RUN1(c, "\x48\x0F\xB2\x03"); /* lss rax, [rbx] */
    CHECK_EQ(c->gpr[GPR_RAX], 0x210000);
    CHECK_EQ(c->seg[SEG_SS].selector, SEL_DATA0);
    done(c);
}

/* SDM 2D RDFSBASE ...; SWAPGS. */
TEST(fsgsbase_and_swapgs)
{
    struct cpu *c = long64();
    RUN1(c, "\xF3\x48\x0F\xAE\xD0"); /* wrfsbase rax: CR4.FSGSBASE is off */
    CHECK_VECTOR(c, EXC_UD);
    c->rip = CODE;
    c->cr4 |= CR4_FSGSBASE;
    c->gpr[GPR_RAX] = UINT64_C(0xFFFF800012345678);
    RUN1(c, "\xF3\x48\x0F\xAE\xD8"); /* wrgsbase rax */
    CHECK_EQ(c->seg_base[SEG_GS], UINT64_C(0xFFFF800012345678));
    c->kernel_gs_base = 0x1000;
    RUN1(c, "\x0F\x01\xF8"); /* swapgs */
    CHECK_EQ(c->seg_base[SEG_GS], 0x1000);
    CHECK_EQ(c->kernel_gs_base, UINT64_C(0xFFFF800012345678));
    RUN1(c, "\xF3\x0F\xAE\xCB"); /* rdgsbase ebx */
    CHECK_EQ(c->gpr[GPR_RBX], 0x1000);
    c->gpr[GPR_RAX] = UINT64_C(0x0000800000000000);
    RUN1(c, "\xF3\x48\x0F\xAE\xD0");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* SDM 3B 17.2.5, I/O breakpoints need CR4.DE; they trap after the access. */
TEST(io_breakpoint)
{
    struct cpu *c = prot32();
    c->cr4 |= CR4_DE;
    c->dr[2] = 0x60;
    c->dr[7] = 0x400 | 0x20 | 2u << 24; /* G2, I/O, 1 byte */
    tlb_flush_all(c);
    cpu_update_mode(c);
    RUN1(c, "\xE6\x61");
    CHECK_EQ(c->rip, CODE + 2);
    RUN1(c, "\xE6\x60");
    CHECK_VECTOR(c, EXC_DB);
    CHECK_EQ(c->dr[6] & 15, 4);
    CHECK_EQ(top(c, 0), CODE + 4);
    done(c);
}

/* SDM vol. 3B 20.4: protected-mode virtual interrupts, CPL 3 with IOPL below 3. */
TEST(pvi_cli_and_sti)
{
    struct cpu *c = prot32();
    c->cr4 |= CR4_PVI;
    to_user(c);
    RUN1(c, "\xFB");
    CHECK_EQ(c->rip, UCODE + 1);
    CHECK(c->eflags & FLAG_VIF);
    RUN1(c, "\xFA");
    CHECK(!(c->eflags & FLAG_VIF));
    CHECK(c->eflags & FLAG_IF);
    c->eflags |= FLAG_VIP;
    RUN1(c, "\xFB");
    CHECK_VECTOR(c, EXC_GP);
    done(c);
}

/* SDM 1 13.10: XSAVEC writes the compacted form; 13.8.2: XRSTOR reads it and initialises what XSTATE_BV leaves out. */
TEST(xsavec_and_compacted_xrstor)
{
    struct cpu *c = long64();
    c->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
    c->cr0 &= ~(uint64_t)(CR0_EM | CR0_TS);
    c->xcr0 = 3 | (cpu_has(c, CPU_PKU) ? 0x200 : 0);
    cpu_update_mode(c);
    x87_reset(c, false);
    memset(c->xmm, 0, sizeof c->xmm);
    c->xmm[2].q[0] = 42;
    c->mxcsr = 0x1F80;
    c->pkru = 0x55555554;
    c->gpr[GPR_RBX] = DATA;
    c->gpr[GPR_RAX] = 0x202;
    c->gpr[GPR_RDX] = 0;
    RUN1(c, "\x48\x0F\xC7\x23"); /* xsavec64 [rbx] */
    CHECK_EQ(c->rip, CODE + 4);
    CHECK_EQ(peek64(c, DATA + 512), 0x202);
    CHECK_EQ(peek64(c, DATA + 520), UINT64_C(0x8000000000000202));
    CHECK_EQ(peek32(c, DATA + 576), 0x55555554); /* compacted: right behind the header */
    CHECK_EQ(peek64(c, DATA + 160 + 32), 42);
    c->xmm[2].q[0] = 0;
    c->pkru = 0;
    RUN1(c, "\x48\x0F\xAE\x2B");
    CHECK_EQ(c->xmm[2].q[0], 42);
    CHECK_EQ(c->pkru, 0x55555554);
    poke64(c, DATA + 512, 2);
    RUN1(c, "\x48\x0F\xAE\x2B");
    CHECK_EQ(c->pkru, 0);
    poke64(c, DATA + 528, 1); /* reserved header bytes */
    RUN1(c, "\x48\x0F\xAE\x2B");
    CHECK_VECTOR(c, EXC_GP);
    c->cr0 |= CR0_TS;
    c->rip = CODE;
    cpu_update_mode(c);
    RUN1(c, "\x48\x0F\xAE\x23");
    CHECK_VECTOR(c, EXC_NM);
    done(c);
}

/* A guest that runs into an undefined opcode in user mode, handles it in the kernel and goes on: a little system, run by cpu_run(). */
TEST(user_program_with_system_calls_runs_in_traces)
{
    static const char kernel[] = /* SYSCALL entry at 9000: count calls in r15, return */
        "\x49\xFF\xC7"         /* inc r15 */
        "\x48\x0F\x07";        /* sysretq */
    static const char user[] = /* UCODE */
        "\xBB\xE8\x03\x00\x00" /* mov ebx, 1000 */
        "\x0F\x05"                /* syscall */
        "\xFF\xCB"                /* dec ebx */
        "\x75\xFA"                /* jnz -6 */
        "\x0F\x0B";               /* ud2 */
    static const char handler[] = "\xF4"; /* #UD: halt */
    struct cpu *c = long64();
    int n;
    poke(c, 0x9000, kernel, sizeof kernel - 1);
    poke(c, UCODE, user, sizeof user - 1);
    poke(c, HANDLERS + EXC_UD * 16, handler, 1);
    c->star = (uint64_t)SEL_CODE64 << 32 | (uint64_t)0x30 << 48;
    c->lstar = 0x9000;
    c->fmask = FLAG_IF;
    to_user(c);
    for (n = 0; n < 100 && !c->halted; n++)
        cpu_run(c, 1000);
    CHECK(c->halted);
    CHECK_EQ(c->gpr[GPR_R15], 1000);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(top(c, 0), UCODE + sizeof user - 3);
    CHECK_EQ(cpu_insn_count(c), 1 + 5000 + 1); /* per round: syscall, inc, sysret, dec, jnz */
    done(c);
}

/* Random bytes as segment descriptors, selectors and stack contents: whatever happens, no crash (run under ASan). */
TEST(hostile_descriptors_never_crash)
{
    struct cpu *c = prot32();
    uint64_t x = UINT64_C(88172645463325252);
    static const char code[][5] = { "\xCF", "\xCB", "\x8E\xD8", "\x8E\xD0", "\x0F\x00\xD8", "\x0F\x00\xD0", "\x0F\x02\xC3", "\xFF\x1B", "\xFF\x2B", "\xCD\x30", "\x0F\x34", "\x0F\x35",
                                        "\x0F\x01\x13", "\x0F\x01\x1B", "\x0F\x22\xC0", "\x0F\x22\xD8", "\x0F\x22\xE0", "\x0F\x30", "\x9D", "\x61", "\x17", "\xC8\x40\x00\x1F" };
    unsigned round, k;
    for (round = 0; round < 20000; round++) {
        if (round % 50 == 0 || c->shutdown) {
            struct cpu_boot b;
            memset(&b, 0, sizeof b);
            b.kind = CPU_BOOT_PROT32;
            b.cs = SEL_CODE0;
            b.ds = b.es = b.ss = SEL_DATA0;
            b.gdt_base = GDT;
            b.gdt_limit = GDT_LIMIT;
            b.rip = CODE;
            b.gpr[GPR_RSP] = STACK;
            cpu_load_boot_state(c, &b);
            common_gdt(c);
        }
        for (k = 0; k < 6; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            poke64(c, GDT + (x >> 8) % 24 * 8, x * 0x9E3779B97F4A7C15u);
            poke64(c, IDT + (x >> 16) % 64 * 8, x * 0xBF58476D1CE4E5B9u);
            poke64(c, TSS + (x >> 24) % 16 * 8, x);
            poke32(c, STACK - 64 + (x >> 40) % 16 * 4, (uint32_t)(x >> 20) & 0xBF);
        }
        c->gpr[GPR_RAX] = (x >> 32) & 0xFF;
        c->gpr[GPR_RBX] = STACK - 64;
        c->gpr[GPR_RCX] = x >> 50;
        run(c, 1, code[round % (sizeof code / sizeof code[0])], 4);
        cpu_step(c);
    }
    CHECK(round == 20000);
    done(c);
}

/* Invariant 2 of mem.c: at the wrap of generations nothing old may come back. */
TEST(generations_wrap_without_stale_entries)
{
    struct cpu *c = long64();
    uint64_t v;
    unsigned k;
    poke32(c, 0x200000, 1);
    poke32(c, 0x300000, 3);
    CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
    c->emu->last_generation = UINT32_MAX - 40;
    for (k = 0; k < 100; k++) {
        poke64(c, PT + 0x200 * 8, (k & 1 ? 0x300000 : 0x200000) | 7);
        if (k & 2)
            tlb_flush_all(c);
        else
            tlb_flush_page(c, 0x200000);
        CHECK_EQ(cpu_load_linear(c, 0x200000, 4, &v, ACCESS_READ), CPU_OK);
        CHECK_EQ(v, k & 1 ? 3 : 1);
        CHECK(c->generation != 0 && c->tlb_generation != 0);
        RUN1(c, "\x90");
    }
    CHECK(c->emu->last_generation < 1000);
    done(c);
}

TEST_MAIN(TEST_CASE(reset_state_is_the_manuals), TEST_CASE(unreal_mode_keeps_limits), TEST_CASE(guest_program_goes_from_real_to_long_mode), TEST_CASE(page_fault_error_codes),
          TEST_CASE(accessed_and_dirty_bits), TEST_CASE(smap_and_smep), TEST_CASE(paging_32_bit_with_pse), TEST_CASE(paging_pae), TEST_CASE(paging_large_pages_and_la57),
          TEST_CASE(tlb_invalidation_rules), TEST_CASE(invlpg_drops_whole_large_page), TEST_CASE(pcid_keeps_and_invpcid_drops), TEST_CASE(protection_keys), TEST_CASE(a20_mask_applies_to_walks),
          TEST_CASE(crossing_store_is_all_or_nothing), TEST_CASE(mmio_goes_to_the_region), TEST_CASE(pages_with_code_and_watched_pages_take_the_slow_path),
          TEST_CASE(segment_loads_check_type_privilege_and_presence), TEST_CASE(user_cannot_load_inner_data_segment), TEST_CASE(limits_and_expand_down),
          TEST_CASE(canonical_checks_and_bases_in_long_mode), TEST_CASE(lar_lsl_verr_verw_arpl), TEST_CASE(push_pop_segment), TEST_CASE(lgdt_lldt_ltr), TEST_CASE(fault_frame_same_privilege),
          TEST_CASE(interrupt_from_user_switches_stack), TEST_CASE(software_interrupt_checks_gate_dpl), TEST_CASE(int3_into_int1), TEST_CASE(double_and_triple_fault),
          TEST_CASE(page_fault_in_delivery), TEST_CASE(long_mode_frames), TEST_CASE(external_interrupt_and_error_code_ext_bit), TEST_CASE(real_mode_interrupt_and_iret),
          TEST_CASE(instruction_breakpoint_and_resume_flag), TEST_CASE(data_breakpoint_traps_after_the_store), TEST_CASE(single_step), TEST_CASE(debug_registers_access), TEST_CASE(far_jump_checks),
          TEST_CASE(call_gate_to_inner_level_and_back), TEST_CASE(call_gate_64), TEST_CASE(task_switch_by_call_and_iret), TEST_CASE(task_switch_by_jump_and_faults_in_new_task),
          TEST_CASE(task_gate_in_idt_pushes_error_code), TEST_CASE(task_switch_to_16_bit_tss), TEST_CASE(v86_entry_and_exit), TEST_CASE(v86_iopl_sensitive_instructions), TEST_CASE(v86_vme),
          TEST_CASE(syscall_and_sysret), TEST_CASE(sysenter_and_sysexit), TEST_CASE(popf_masks_by_privilege), TEST_CASE(cli_sti_and_shadow), TEST_CASE(stac_and_clac_by_privilege), TEST_CASE(io_permission_bitmap),
          TEST_CASE(privileged_instructions_fault_for_users), TEST_CASE(control_register_consistency), TEST_CASE(msrs_read_write_and_fault), TEST_CASE(cpuid_leaves),
          TEST_CASE(cpu_models_and_flags_of_the_command_line), TEST_CASE(instructions_without_cpuid_bit_are_undefined), TEST_CASE(fxsave_and_xsave_round_trip),
          TEST_CASE(enter_bcd_bound_and_friends), TEST_CASE(alignment_check), TEST_CASE(rdtsc_follows_cr4_tsd_and_hlt_halts),
          TEST_CASE(iretq_to_compatibility_mode_and_back_by_far_jump), TEST_CASE(iretq_checks), TEST_CASE(far_pointers_with_64_bit_offsets), TEST_CASE(fsgsbase_and_swapgs), TEST_CASE(io_breakpoint),
          TEST_CASE(pvi_cli_and_sti), TEST_CASE(xsavec_and_compacted_xrstor), TEST_CASE(user_program_with_system_calls_runs_in_traces), TEST_CASE(hostile_descriptors_never_crash),
          TEST_CASE(generations_wrap_without_stale_entries))
