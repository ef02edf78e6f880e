/* cpu/cpu.h - the x86-64 CPU: state, and every interface between the files of cpu/.
 *
 * Who does what (one direction of calls, down this list):
 *   run.c        cpu_run(): interrupts, budget, entry into traces
 *   trace.c      two tiers of traces: building, linking, invalidation          uop.h, handlers_*.c: the uop handlers
 *   decode.c     bytes -> struct insn by the rows of table.c (integer), system.c, x87.c, mmx.c, sse*.c, crypto.c
 *   system.c ... instructions that are plain C: insn_fn                        sse*.c: vec_fn
 *   exception.c  delivery of faults, traps, interrupts; segment.c, control.c: descriptors, gates, tasks, mode changes
 *   mem.c        loads and stores by linear address, TLB; paging.c: the walk
 *
 * Invariants 1. Outside of handlers (in every insn_fn, vec_fn, callback, at every exit) the register file below is complete:
 *               slots are spilled, rip and the instruction count are exact.
 *            2. A failing instruction changes nothing the guest can see, but what the manual says (REP progress, A/D bits).
 *            3. Derived state (mode, mode_key) changes in cpu_update_mode() and cpu_update_ac() only.
 */
#ifndef EMU_CPU_H
#define EMU_CPU_H

/* ---- features: CPUID bits, -cpu flags, and what rows need. ORDER cpu_feature ---- */
/*            id            -cpu name       leaf         subleaf reg(0 eax,1 ebx,2 ecx,3 edx) bit */
#define CPU_FEATURES(X)                                                                                                \
    X(FPU, "fpu", 1, 0, 3, 0) X(VME, "vme", 1, 0, 3, 1) X(DE, "de", 1, 0, 3, 2) X(PSE, "pse", 1, 0, 3, 3)              \
    X(TSC, "tsc", 1, 0, 3, 4) X(MSR, "msr", 1, 0, 3, 5) X(PAE, "pae", 1, 0, 3, 6) X(MCE, "mce", 1, 0, 3, 7)            \
    X(CX8, "cx8", 1, 0, 3, 8) X(APIC, "apic", 1, 0, 3, 9) X(SEP, "sep", 1, 0, 3, 11) X(MTRR, "mtrr", 1, 0, 3, 12)      \
    X(PGE, "pge", 1, 0, 3, 13) X(MCA, "mca", 1, 0, 3, 14) X(CMOV, "cmov", 1, 0, 3, 15) X(PAT, "pat", 1, 0, 3, 16)      \
    X(PSE36, "pse36", 1, 0, 3, 17) X(CLFLUSH, "clflush", 1, 0, 3, 19) X(MMX, "mmx", 1, 0, 3, 23)                       \
    X(FXSR, "fxsr", 1, 0, 3, 24) X(SSE, "sse", 1, 0, 3, 25) X(SSE2, "sse2", 1, 0, 3, 26) X(SS, "ss", 1, 0, 3, 27)      \
    X(SSE3, "sse3", 1, 0, 2, 0) X(PCLMULQDQ, "pclmulqdq", 1, 0, 2, 1) X(MONITOR, "monitor", 1, 0, 2, 3)                \
    X(SSSE3, "ssse3", 1, 0, 2, 9) X(FMA, "fma", 1, 0, 2, 12) X(CX16, "cx16", 1, 0, 2, 13) X(PCID, "pcid", 1, 0, 2, 17) \
    X(SSE41, "sse4.1", 1, 0, 2, 19) X(SSE42, "sse4.2", 1, 0, 2, 20) X(X2APIC, "x2apic", 1, 0, 2, 21)                   \
    X(MOVBE, "movbe", 1, 0, 2, 22) X(POPCNT, "popcnt", 1, 0, 2, 23) X(TSC_DEADLINE, "tsc-deadline", 1, 0, 2, 24)       \
    X(AES, "aes", 1, 0, 2, 25) X(XSAVE, "xsave", 1, 0, 2, 26) X(AVX, "avx", 1, 0, 2, 28) X(F16C, "f16c", 1, 0, 2, 29)  \
    X(RDRAND, "rdrand", 1, 0, 2, 30) X(HYPERVISOR, "hypervisor", 1, 0, 2, 31)                                         \
    X(FSGSBASE, "fsgsbase", 7, 0, 1, 0) X(TSC_ADJUST, "tsc_adjust", 7, 0, 1, 1) X(BMI1, "bmi1", 7, 0, 1, 3)            \
    X(AVX2, "avx2", 7, 0, 1, 5) X(SMEP, "smep", 7, 0, 1, 7) X(BMI2, "bmi2", 7, 0, 1, 8) X(ERMS, "erms", 7, 0, 1, 9)    \
    X(INVPCID, "invpcid", 7, 0, 1, 10) X(RDSEED, "rdseed", 7, 0, 1, 18) X(ADX, "adx", 7, 0, 1, 19)                     \
    X(SMAP, "smap", 7, 0, 1, 20) X(CLFLUSHOPT, "clflushopt", 7, 0, 1, 23) X(CLWB, "clwb", 7, 0, 1, 24)                 \
    X(SHA, "sha-ni", 7, 0, 1, 29) X(UMIP, "umip", 7, 0, 2, 2) X(PKU, "pku", 7, 0, 2, 3) X(LA57, "la57", 7, 0, 2, 16)   \
    X(RDPID, "rdpid", 7, 0, 2, 22) X(FSRM, "fsrm", 7, 0, 3, 4) X(SPEC_CTRL, "spec-ctrl", 7, 0, 3, 26) X(BHI_CTRL, "bhi-ctrl", 7, 2, 3, 4) X(ARCH_CAP, "arch-capabilities", 7, 0, 3, 29)           \
    X(SYSCALL, "syscall", 0x80000001, 0, 3, 11) X(NX, "nx", 0x80000001, 0, 3, 20)                                      \
    X(PDPE1GB, "pdpe1gb", 0x80000001, 0, 3, 26) X(RDTSCP, "rdtscp", 0x80000001, 0, 3, 27)                              \
    X(LM, "lm", 0x80000001, 0, 3, 29) X(LAHF_LM, "lahf-lm", 0x80000001, 0, 2, 0) X(ABM, "abm", 0x80000001, 0, 2, 5)    \
    X(PREFETCHW, "3dnowprefetch", 0x80000001, 0, 2, 8) X(INVTSC, "invtsc", 0x80000007, 0, 3, 8)                        \
    X(XSAVEOPT, "xsaveopt", 0xD, 1, 0, 0) X(XSAVEC, "xsavec", 0xD, 1, 0, 1) X(XGETBV1, "xgetbv1", 0xD, 1, 0, 2)
enum cpu_feature {
    CPU_ALWAYS, /* a row that needs nothing */
#define CPU_FEATURE_ID(id, name, leaf, sub, reg, bit) CPU_##id,
    CPU_FEATURES(CPU_FEATURE_ID)
#undef CPU_FEATURE_ID
    CPU_FEATURE_COUNT
};

/* ---- architectural constants (Intel SDM vol. 1 and 3) ---- */
enum {
    FLAG_CF = 1 << 0, FLAG_PF = 1 << 2, FLAG_AF = 1 << 4, FLAG_ZF = 1 << 6, FLAG_SF = 1 << 7, FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9, FLAG_DF = 1 << 10, FLAG_OF = 1 << 11, FLAG_IOPL = 3 << 12, FLAG_NT = 1 << 14, FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17, FLAG_AC = 1 << 18, FLAG_VIF = 1 << 19, FLAG_VIP = 1 << 20, FLAG_ID = 1 << 21,
    FLAGS_ARITH = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF /* "OSZAPC" */
};
enum { GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RSP, GPR_RBP, GPR_RSI, GPR_RDI, GPR_R8, GPR_R9, GPR_R10, GPR_R11, GPR_R12, GPR_R13, GPR_R14, GPR_R15,
       GPR_ZERO, /* reads as 0: absent base or index */
       GPR_TEMP, GPR_COUNT };
#if defined(EMU_TORTURE)
enum { CPU_RETURNS = 2 };
#else
enum { CPU_RETURNS = 16 };
#endif
enum cpu_shadow { CPU_SHADOW_NONE, CPU_SHADOW_SS /* debug traps wait, too (SDM 3A 6.8.3) */, CPU_SHADOW_STI };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };
enum { EXC_DE = 0, EXC_DB = 1, EXC_NMI = 2, EXC_BP = 3, EXC_OF = 4, EXC_BR = 5, EXC_UD = 6, EXC_NM = 7, EXC_DF = 8, EXC_TS = 10, EXC_NP = 11,
       EXC_SS = 12, EXC_GP = 13, EXC_PF = 14, EXC_MF = 16, EXC_AC = 17, EXC_MC = 18, EXC_XM = 19 };
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 16, CR0_NE = 32, CR0_WP = 1 << 16, CR0_AM = 1 << 18, CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
#define CR0_PG UINT32_C(0x80000000)
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_MCE = 64, CR4_PGE = 128, CR4_PCE = 256, CR4_OSFXSR = 512,
       CR4_OSXMMEXCPT = 1024, CR4_UMIP = 1 << 11, CR4_LA57 = 1 << 12, CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18,
       CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, CR4_PKE = 1 << 22 };
enum { EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };

/* A 256-bit vector register. Element order is the guest's on every host through VB..VQ: the quadwords are in guest order, and
 * narrower elements are found inside a quadword by the host's byte order. */
union vec {
    uint8_t b[32];
    uint16_t w[16];
    uint32_t d[8];
    uint64_t q[4];
};
#if EMU_BIG_ENDIAN
#define VB(v, i) ((v)->b[(i) ^ 7])
#define VW(v, i) ((v)->w[(i) ^ 3])
#define VD(v, i) ((v)->d[(i) ^ 1])
#else
#define VB(v, i) ((v)->b[i])
#define VW(v, i) ((v)->w[i])
#define VD(v, i) ((v)->d[i])
#endif
#define VQ(v, i) ((v)->q[i])

struct seg {
    uint16_t selector;
    uint32_t attr; /* descriptor bits 40-55 at 0-15 (type, S, DPL, P at 0-7; AVL, L, D/B, G at 12-15), SEG_UNUSABLE */
    uint32_t limit; /* in bytes, granularity applied */
    uint64_t base;
};
enum { SEG_TYPE = 15, SEG_S = 1 << 4, SEG_DPL = 3 << 5, SEG_P = 1 << 7, SEG_L = 1 << 13, SEG_DB = 1 << 14, SEG_G = 1 << 15, SEG_UNUSABLE = 1 << 16,
       SEG_CODE = 8, SEG_WRITE_READ = 2, SEG_DOWN_CONFORM = 4, SEG_ACCESSED = 1 };
struct dtable {
    uint64_t base;
    uint32_t limit;
};

struct uop_jump;

enum cpu_mode { MODE_REAL, MODE_V86, MODE_PROT, MODE_COMPAT, MODE_LONG };

/* Mode key: everything a trace was specialised on. ORDER mode_key (cpu_update_mode, trace builder) */
enum mode_key {
    KEY_CS16 = 0, KEY_CS32 = 1, KEY_CS64 = 2, KEY_CS_SIZE = 3,
    KEY_SS32 = 1 << 2,       /* stack pointer is ESP (RSP when KEY_CS64), else SP */
    KEY_USER = 1 << 3,       /* CPL 3 */
    KEY_KERNEL = 1 << 4,     /* CPL 0 */
    KEY_REAL = 1 << 5,       /* real or v86 mode segments */
    KEY_V86 = 1 << 6,
    KEY_FLAT_ES = 1 << 7, KEY_FLAT_CS = 1 << 8, KEY_FLAT_SS = 1 << 9, KEY_FLAT_DS = 1 << 10, /* base 0, limit 4 GiB, writable (CS: readable); all set in KEY_CS64 */
    KEY_PAGING = 1 << 11,
    KEY_SMAP = 1 << 12,      /* user pages are not for explicit data access now */
    KEY_AC = 1 << 13,        /* alignment checks are on */
    KEY_NO_X87 = 1 << 14,    /* CR0.EM or CR0.TS: x87/MMX instructions fault */
    KEY_NO_SSE = 1 << 15,    /* CR0.EM, !CR4.OSFXSR or CR0.TS: SSE instructions fault */
    KEY_NO_AVX = 1 << 16,    /* CR4.OSXSAVE or XCR0 does not allow VEX instructions, or CR0.TS */
    KEY_LONG = 1 << 17,      /* EFER.LMA */
    KEY_NO_IO = 1 << 18,     /* reserved */
    KEY_DEBUG = 1 << 19      /* breakpoints or watchpoints: instruction by instruction */
};

/* TLB, direct-mapped. Three sets, cpu->tlb_set is the one for explicit data accesses now: 0 supervisor, 1 user, 2 supervisor while
 * EFLAGS.AC overrides SMAP. Implicit system accesses (ACCESS_SYSTEM) use set 0. */
#define TLB_SETS 3
#if defined(EMU_TORTURE)
#define TLB_BITS 4
#else
#define TLB_BITS 11
#endif
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_NO_PAGE UINT64_MAX /* equals no (va & ~4095); a test by subtraction would take it for a page */
struct tlb_entry {
    uint64_t read_page, write_page; /* linear page address, or TLB_NO_PAGE: not allowed directly (slow path decides) */
    uintptr_t addend;               /* host address = linear address + addend */
    uint32_t generation;            /* valid where it equals cpu->tlb_generation or (global pages) cpu->global_generation */
};

enum cpu_fault_flag { FAULT_HAS_ERROR = 1, FAULT_SOFT_INT = 2, FAULT_ICEBP = 4, FAULT_EXTERNAL = 8, FAULT_INT_N = 16 /* INT imm8, as against INT3 and INTO */ };
struct fault {
    uint8_t vector, flags;
    uint32_t error;
    uint64_t cr2;
};

struct x87_reg {
    uint64_t mant;
    uint16_t exp; /* sign in bit 15 */
};

struct insn;
struct uop;
struct trace;

struct cpu {
    /* hot: the register file that uops address by byte offset (first 4 KiB) */
    uint64_t gpr[GPR_COUNT];
    uint64_t flag_result, flag_source, flag_dest; /* lazy flags: see flags.c */
    uint32_t flag_kind;
    uint32_t generation;        /* of the linear -> host mapping in force, for uop page caches: changes with every invalidation (INVLPG and
                                   new code pages too); unique over the machine's CPUs. TLB entries: tlb_generation */
    uint32_t code_generation;   /* of the linear -> code mapping in force, for the jump cache and links to other pages: CR3 loads, flushes,
                                   INVLPG of a page that code was taken from */
    uint32_t global_code_generation; /* the same for code in global pages: CR3 loads leave it */
    uint64_t code_base;         /* linear address of the page that runs, minus CS base */
    uint64_t rip;               /* exact when spilled */
    uint64_t next_rip;          /* set for an insn_fn: address after the instruction; it may change it */
    uint32_t eflags;            /* everything but OSZAPC */
    uint32_t mode_key;
    uint64_t seg_base[8];       /* copy of seg[].base for address computation */
    union vec vtmp[2];          /* memory and GPR operands of vec_fn */
    union vec xmm[16];
    uint32_t mxcsr;
    uint32_t attention;         /* nonzero: leave at the next exit (interrupt, request, budget to be reloaded) */
    uint64_t icount;            /* retired instructions; exact when spilled */
    int64_t budget;             /* instructions until the traces are left; exits subtract. See run.c */
    int64_t budget_start;       /* of the running stretch; see run.c */
    int64_t budget_hold;        /* part of the budget that cpu_kick() took away to make the next exit leave */
    struct uop_jump *jumps;     /* cache of indirect jumps' targets */
    struct uop_return {         /* what the latest CALLs left for their RETs: a ring, returns[return_top] is the newest */
        uint64_t rip;           /* return address; 0: none */
        struct uop *u, *call;   /* the trace there, or NULL; the CALL, whose second unit keeps u */
        uint32_t key, generation; /* mode_key and code_generation at the CALL */
    } returns[CPU_RETURNS];
    unsigned return_top;
    struct uop *scratch, *resume; /* head and copy of a memory uop that runs on bounce[], and where it goes on */
    void (*resume_handler)(void);
    void (*then)(void);         /* handler of the uop that a handler has returned; where there are no tail calls */
    struct uop *leave_stub;     /* link that was to be taken when the traces were left, or NULL */
    struct uop *promote;        /* head of a trace that wants to be optimised, or NULL */
    uint64_t leave_base;        /* code_base at that time */
    uint32_t inflight;          /* instructions of the running trace retired before the present one; inside slow paths */
    uint8_t leave_fault;        /* traces were left with cpu->fault set */
    uint8_t commit_size;
    uint64_t slow_paths, fast_misses, tier1_insns, step_insns; /* statistics */
    uint64_t miss_va;           /* linear address of the access that missed its uop's page */
    union vec bounce[2];        /* a slow access on its way: handlers_flow.c */

    /* x87: physical registers; ST(i) = x87[(top + i) & 7]. MMX registers are their mant. */
    struct x87_reg x87[8];
    uint16_t x87_control, x87_status /* without TOP */, x87_opcode;
    uint8_t x87_top, x87_tags; /* tags: bit i set = physical register i is empty */
    uint64_t x87_ip, x87_dp;
    uint16_t x87_cs, x87_ds;

    /* system state */
    struct emu *emu;
    unsigned index; /* number of this CPU = initial APIC id */
    struct seg seg[SEG_COUNT];
    struct dtable gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[8];
    uint32_t pkru;
    uint8_t cpl;
    uint8_t mode; /* enum cpu_mode */
    uint8_t code_size; /* 2, 4, 8: default operand/address environment of CS */
    bool halted, waiting_sipi, shutdown; /* shutdown: triple fault */
    bool napping;                        /* as if halted until the next event, interrupts on or off: machine_polled_in_vain() */
    uint8_t interrupt_shadow; /* enum cpu_shadow: interrupts wait until the instruction after STI and MOV SS is over (run.c clears it then) */
    bool nmi_blocked;
    uint32_t pending; /* CPU_INT_* bits */
    uint8_t sipi_vector;
    struct fault fault;
    uint64_t star, lstar, cstar, fmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, tsc_aux, pat, misc_enable, apic_base;
    uint64_t mtrr[32]; /* def type, fixed, variable: kept, not acted upon */
    int64_t tsc_offset;
    uint64_t mcg_status, mcg_ctl, mc_bank[4][4]; /* machine check: CTL, STATUS, ADDR, MISC of each bank */
    uint64_t feature_control, debugctl, spec_ctrl, misc_features;
    uint32_t msr_unknown[16]; /* those already logged */
    uint8_t msr_unknown_count;
    uint64_t monitor_gpa;
    bool monitor_armed;
    uint32_t features[(CPU_FEATURE_COUNT + 31) / 32];
    uint64_t pdpte[4]; /* PAE without long mode */
    uint8_t phys_bits;
    uint32_t signature;    /* CPUID.1.EAX */
    uint32_t basic_leaves; /* highest CPUID leaf, 0: by features */
    char vendor[13], brand[49];
    uint64_t rng_state[2];

    /* mem.c */
    uint32_t global_generation, tlb_generation; /* tags of TLB entries: global ones, and those of the present CR3/PCID */
    uint8_t tlb_set;
    uint32_t debug_hits; /* DR6 bits of data and I/O breakpoints that the present instruction met: after it the engine calls
                            cpu_debug_trap(c, debug_hits), which clears them. Only under KEY_DEBUG */
    bool watch_hit;      /* the present instruction touched a debugger watchpoint (mem_watch_set): leave with CPU_EXIT_WATCHPOINT */
    uint64_t watch_va;
    bool debugger_stops; /* set by run.c while the debugger has breakpoints: cpu_update_mode() then sets KEY_DEBUG */
    struct tlb_entry tlb[TLB_SETS][TLB_SIZE];
    void *mmu; /* mem.c's private state (per-PCID generations, statistics) */

    /* trace.c, run.c: private state of the engine */
    void *engine;
};

EMU_INLINE bool cpu_has(const struct cpu *c, enum cpu_feature f)
{
    return f == CPU_ALWAYS || ((c->features[f >> 5] >> (f & 31)) & 1);
}

/* Registers by width, whatever the host's byte order. cpu_gpr32 writes clear the upper half. 8-bit: r 4-7 are SPL.. or AH..: the
 * decoder resolves; here `high` says AH, CH, DH, BH of register r (0-3). */
#define CPU_REG_OFFSET(size) (EMU_BIG_ENDIAN ? 8 - (size) : 0)
EMU_INLINE uint8_t cpu_get8(const struct cpu *c, unsigned r, bool high) { return (uint8_t)(high ? c->gpr[r] >> 8 : c->gpr[r]); }
EMU_INLINE void cpu_put8(struct cpu *c, unsigned r, bool high, uint8_t v)
{
    c->gpr[r] = high ? (c->gpr[r] & ~UINT64_C(0xFF00)) | ((uint64_t)v << 8) : (c->gpr[r] & ~UINT64_C(0xFF)) | v;
}
EMU_INLINE void cpu_put16(struct cpu *c, unsigned r, uint16_t v) { c->gpr[r] = (c->gpr[r] & ~UINT64_C(0xFFFF)) | v; }
EMU_INLINE void cpu_put32(struct cpu *c, unsigned r, uint32_t v) { c->gpr[r] = v; }
/* Writes the low `size` bytes (2, 4, 8) of a register as an instruction of that operand size does. */
EMU_INLINE void cpu_put(struct cpu *c, unsigned r, uint64_t v, unsigned size)
{
    if (size == 2)
        cpu_put16(c, r, (uint16_t)v);
    else
        c->gpr[r] = size == 4 ? (uint32_t)v : v;
}
EMU_INLINE uint64_t cpu_get(const struct cpu *c, unsigned r, unsigned size)
{
    return size == 8 ? c->gpr[r] : size == 4 ? (uint32_t)c->gpr[r] : size == 2 ? (uint16_t)c->gpr[r] : (uint8_t)c->gpr[r];
}

/* ================= results of plain-C instructions ================= */
enum { CPU_OK = 0, CPU_FAULT = 1 }; /* CPU_FAULT: cpu->fault tells; the caller delivers it */
EMU_PRIV int cpu_raise(struct cpu *c, unsigned vector);                          /* returns CPU_FAULT */
EMU_PRIV int cpu_raise_error(struct cpu *c, unsigned vector, uint32_t error);    /* returns CPU_FAULT */
EMU_PRIV int cpu_raise_page_fault(struct cpu *c, uint64_t va, uint32_t error);   /* returns CPU_FAULT */

/* ================= decode.c: instructions and their table ================= */

/* Operand kinds, named as in Intel's opcode map (SDM 2D appendix A). ORDER operand (decode.c, disasm.c) */
enum operand {
    OPND_NONE,
    OPND_Eb, OPND_Ew, OPND_Ev, OPND_Ed, OPND_Ey, OPND_Eq,  /* ModRM r/m: GPR or memory; y: 32 or 64; q: 64 (push/pop/near branches) */
    OPND_Gb, OPND_Gw, OPND_Gv, OPND_Gd, OPND_Gy, OPND_Gq,  /* ModRM reg: GPR */
    OPND_Rd, OPND_Ry, OPND_Rv,                             /* ModRM rm, register only */
    OPND_M, OPND_Mb, OPND_Mw, OPND_Md, OPND_Mq, OPND_Mdq, OPND_Mv, OPND_My, OPND_Mp, OPND_Ms, OPND_Mt, /* memory only; M: address or own size; p: far pointer; s: pseudo-descriptor; t: 80-bit */
    OPND_Ib, OPND_Ibs, OPND_Iw, OPND_Iz, OPND_Iv,          /* immediates; Ibs: sign-extended to operand size; Iv: 64 with REX.W */
    OPND_Jb, OPND_Jz, OPND_Ap,                             /* branch displacement; far pointer in the instruction */
    OPND_Ob, OPND_Ov,                                      /* moffs */
    OPND_Zb, OPND_Zv, OPND_Zq,                             /* register in the opcode's low bits */
    OPND_AL, OPND_AX, OPND_eAX, OPND_CL, OPND_DX, OPND_1,  /* implied; eAX: by operand size */
    OPND_Sw, OPND_Cd, OPND_Dd,                             /* segment, control, debug register in ModRM reg */
    OPND_ES, OPND_CS, OPND_SS, OPND_DS, OPND_FS, OPND_GS,
    OPND_Xb, OPND_Xv, OPND_Yb, OPND_Yv,                    /* string source DS:SI, destination ES:DI */
    OPND_Vx,                                               /* ModRM reg: XMM */
    OPND_Wx, OPND_Wq, OPND_Wd, OPND_Ww, OPND_Wb,           /* XMM, or 16 (aligned unless ROW_UNALIGNED), 8, 4, 2, 1 bytes of memory */
    OPND_Ux,                                               /* ModRM rm: XMM only */
    OPND_Pq, OPND_Qq, OPND_Qd, OPND_Nq,                    /* MMX: reg; rm or memory 8/4 bytes; rm only */
    OPND_ST0, OPND_STi,                                    /* x87 */
    OPND_XMM0,
    OPND_Hx,                                               /* VEX.vvvv */
    OPND_Lx,                                               /* register in immediate bits 7:4 */
    OPND_COUNT
};

/* Encoding word of a row. */
#define ENC(op) ((uint32_t)(op))
#define ENC0F(op) (0x100u | (op))
#define ENC0F38(op) (0x200u | (op))
#define ENC0F3A(op) (0x300u | (op))
#define ENC_MAP(enc) (((enc) >> 8) & 3)
#define PFX_NP (1u << 10)      /* only without 66, F2, F3 */
#define PFX_66 (2u << 10)      /* mandatory prefixes */
#define PFX_F3 (3u << 10)
#define PFX_F2 (4u << 10)
#define PFX_MASK (7u << 10)    /* 0: any (66 = operand size) */
#define SLASH(n) ((uint32_t)((n) + 1) << 13)  /* ModRM.reg == n */
#define SLASH_MASK (15u << 13)
#define MOD_REG (1u << 17)     /* ModRM.mod == 3 */
#define MOD_MEM (2u << 17)     /* ModRM.mod != 3 */
#define MOD_MASK (3u << 17)
#define RM(n) (MOD_REG | (uint32_t)((n) + 1) << 19) /* ModRM.mod == 3 and rm == n */
#define RM_MASK (15u << 19)
#define MODE64 (1u << 23)      /* only in 64-bit mode */
#define NOT64 (2u << 23)       /* only outside */
#define MODE_MASK (3u << 23)
#define OPREG (1u << 25)       /* the row stands for 8 opcodes: op + register */
#define W0 (1u << 26)
#define W1 (2u << 26)
#define W_MASK (3u << 26)
#define HAS_MODRM (1u << 28)   /* implied by SLASH, MOD_, RM and operands that use ModRM; else to be said */
#define VEX128 (1u << 29)
#define VEX256 (2u << 29)
#define VEX_MASK (3u << 29)

enum row_attr {
    ROW_ENDS = 1,        /* the trace ends here: rip, mode or interrupt state may change */
    ROW_PRIV = 2,        /* #GP(0) unless CPL is 0 */
    ROW_X87 = 4,         /* #NM if CR0.EM or TS; WAIT-type #MF check is the function's */
    ROW_SSE = 8,         /* #UD if CR0.EM or !OSFXSR; #NM if TS */
    ROW_MMX = 16,        /* #UD if EM, #NM if TS, pending #MF; sets tags */
    ROW_LOCK = 32,       /* LOCK allowed with a memory destination */
    ROW_DEF64 = 64,      /* operand size is 64 in 64-bit mode (push, pop, ...) */
    ROW_FORCE64 = 128,   /* the same, and 66 is ignored (near branches) */
    ROW_UNALIGNED = 256, /* 16-byte memory operand need not be aligned */
    ROW_NO_RIP = 512,    /* the function does not care for rip: no need to set it (cannot fault) */
    ROW_REP = 1024,      /* string instruction: F2/F3 repeat */
    ROW_IGNORE_66 = 2048,
    ROW_WRITES_MEM = 4096
};
enum row_how {
    HOW_INT,  /* op: enum int_op (table.c, trace.c, handlers) */
    HOW_CALL, /* fn.call */
    HOW_VEC   /* fn.vec, perhaps with a handler of its own */
};
struct insn;
/* A plain-C instruction. cpu->rip and cpu->next_rip are set; it reads operands through insn_*() or directly. */
typedef int (*insn_fn)(struct cpu *c, const struct insn *i);
/* A vector operation d = a op b. Legacy SSE: a == d. Operand 0 is d, the last operand that is no immediate is b.
 * Memory operands: b is loaded (zero-extended) into cpu->vtmp[0]; where operand 0 is memory, d is vtmp[1] and its low bytes are stored after.
 * GPR sources are zero-extended into b->q[0]; GPR destinations take d->q[0] (vtmp[1]); MMX registers are copied to q[0] and back.
 * imm: the immediate byte. Upper half of YMM is kept by legacy SSE: write only the 128 bits that you mean to. */
typedef int (*vec_fn)(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm);

struct insn_row {
    uint32_t enc;
    const char *name;
    uint8_t opnd[4];
    uint8_t needs; /* enum cpu_feature */
    uint8_t how;
    uint16_t attr;
    uint16_t flags_read, flags_written; /* OSZAPC bits; HOW_CALL may simply say FLAGS_ARITH in both when it touches eflags */
    uint16_t op;
    insn_fn call;
    vec_fn vec;
    const void *handler; /* trace.c's handlers of this vec_fn (struct vec_handlers), or NULL: generic */
};
#define ROW_CALL(enc, name, o1, o2, o3, needs, attr, fr, fw, fn) { enc, name, { o1, o2, o3, 0 }, needs, HOW_CALL, attr, fr, fw, 0, fn, NULL, NULL }
#define ROW_VEC(enc, name, o1, o2, o3, needs, attr, fw, fn) { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, 0, NULL, vec_##fn, NULL }
#define VEC_FN(fn) static int vec_##fn(struct cpu *c, union vec *d, const union vec *a, const union vec *b, unsigned imm)
/* Tables: each ends with a row whose name is NULL. decode.c indexes them when the machine is created. */
EMU_PRIV const struct insn_row *cpu_rows_int(void);    /* table.c */
EMU_PRIV const struct insn_row *cpu_rows_system(void); /* system.c */
EMU_PRIV const struct insn_row *cpu_rows_x87(void);    /* x87.c */
EMU_PRIV const struct insn_row *cpu_rows_mmx(void);
EMU_PRIV const struct insn_row *cpu_rows_sse(void);
EMU_PRIV const struct insn_row *cpu_rows_sse4(void);
EMU_PRIV const struct insn_row *cpu_rows_crypto(void);

struct insn { /* a decoded instruction */
    const struct insn_row *row;
    uint8_t bytes[16];
    uint8_t length;
    uint8_t opsize, addrsize;   /* 2, 4, 8 */
    uint8_t prefixes;           /* INSN_* */
    uint8_t rex;                /* 0 or 0x40-0x4F */
    uint8_t vex;                /* 0, or length in bytes 16/32 */
    uint8_t vvvv;
    uint8_t opcode;             /* last opcode byte */
    uint8_t modrm;
    bool has_modrm, memory;     /* memory: mod != 3 (or moffs) */
    uint8_t reg;                /* ModRM.reg with REX.R (or opcode register with REX.B for Z operands: in rm) */
    uint8_t rm;                 /* ModRM.rm with REX.B, register form */
    uint8_t seg;                /* effective segment of the memory operand (SEG_*) */
    uint8_t base, index, scale; /* GPR_*; GPR_ZERO where absent; scale 0-3 */
    bool rip_relative;          /* base is next_rip */
    int64_t disp;
    uint64_t imm;               /* sign-extended where the operand kind says so */
    uint16_t imm2;              /* far pointer selector, ENTER's second */
    uint16_t page_offset;
};
enum { INSN_LOCK = 1, INSN_REPNE = 2, INSN_REP = 4, INSN_OPSIZE = 8, INSN_ADDRSIZE = 16, INSN_SEG = 32 };
/* Decodes up to size bytes. 0, or EXC_UD / EXC_GP (over 15 bytes), or -1: more bytes are needed. */
EMU_PRIV int cpu_decode(const struct cpu *c, uint32_t mode_key, const uint8_t *bytes, unsigned size, struct insn *out);
EMU_PRIV void cpu_disassemble(const struct insn *i, uint64_t rip, char *buf, size_t size);
EMU_PRIV int cpu_decode_create(struct emu *e); /* builds the index */
EMU_PRIV void cpu_decode_destroy(struct emu *e);

/* Operands for insn_fn. Address: offset in its segment, wrapped to the address size. */
EMU_PRIV uint64_t insn_address(struct cpu *c, const struct insn *i);
EMU_PRIV int insn_load_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t *value);  /* r/m operand of that size (1, 2, 4, 8) */
EMU_PRIV int insn_store_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t value);

/* ================= flags.c ================= */
/* Lazy flags: group | log2 of the size in bytes; theory at the head of flags.c. ORDER flag_kind (flags.c, handlers, trace.c) */
enum flag_kind { FLAGK_BITS = 0, FLAGK_ADD = 4, FLAGK_SUB = 8, FLAGK_LOGIC = 12, FLAGK_INC = 16, FLAGK_DEC = 20, FLAGK_RESULT = 24, FLAGK_END = 28 };
/* SF and PF after a multiplication are of the low half on Intel's processors, ZF and AF are 0: this bit in flag_result keeps ZF clear. */
enum { FLAG_RESULT_NOT_ZERO = 0x100 };
EMU_PRIV unsigned cpu_flag_carry(const struct cpu *c);               /* CF as 0 or 1 */
EMU_PRIV bool cpu_condition(const struct cpu *c, unsigned cc);       /* condition code 0-15 of Jcc */
EMU_PRIV uint32_t cpu_arith_flags(const struct cpu *c);             /* OSZAPC now */
EMU_PRIV void cpu_set_arith_flags(struct cpu *c, uint32_t flags);   /* all six */
EMU_PRIV uint32_t cpu_eflags(const struct cpu *c);                  /* whole register, bit 1 set */
EMU_PRIV void cpu_set_eflags(struct cpu *c, uint32_t value);        /* whole register, no checks; calls cpu_update_mode if VM or AC changed */

/* ================= mem.c: loads and stores ================= */
enum access { ACCESS_READ = 0, ACCESS_WRITE = 1, ACCESS_EXEC = 2, ACCESS_RMW = 3, /* write; reads too */
              ACCESS_SYSTEM = 4 /* or: implicit supervisor access (descriptor tables, TSS): CPL does not count */ };
/* By segment and offset (offset already cut to the address size): segment checks, canonical form, paging, I/O, crossing pages.
 * A store that crosses pages checks both before it changes any. */
EMU_PRIV int cpu_load(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t *value);
EMU_PRIV int cpu_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, uint64_t value);
EMU_PRIV int cpu_load_bytes(struct cpu *c, unsigned seg, uint64_t offset, void *buf, unsigned size);
EMU_PRIV int cpu_store_bytes(struct cpu *c, unsigned seg, uint64_t offset, const void *buf, unsigned size);
EMU_PRIV int cpu_check_store(struct cpu *c, unsigned seg, uint64_t offset, unsigned size); /* would a store fault? (no change) */
/* By linear address. */
EMU_PRIV int cpu_load_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t *value, unsigned access);
EMU_PRIV int cpu_store_linear(struct cpu *c, uint64_t va, unsigned size, uint64_t value, unsigned access);
EMU_PRIV int cpu_copy_linear(struct cpu *c, uint64_t va, void *buf, unsigned size, unsigned access); /* direction by access */
/* Segment part alone: linear address of [offset, offset+size), or #GP/#SS. */
EMU_PRIV int cpu_linear(struct cpu *c, unsigned seg, uint64_t offset, unsigned size, unsigned access, uint64_t *va);
/* Host pointer for a plain access of size bytes at va by the current CPL, after filling the TLB; NULL: crossing, I/O, watched, code page (writes) or fault:
 * take the functions above. span (may be NULL): bytes from va to the page's end. */
EMU_PRIV uint8_t *tlb_host(struct cpu *c, uint64_t va, unsigned size, unsigned access);
/* Code: backing of the page at va for execution by the present CPL. 0 or CPU_FAULT. */
EMU_PRIV int cpu_code_page(struct cpu *c, uint64_t va, struct phys_page *out, uint64_t *gpa);
/* The same for the caches of code addresses: host address of the page's first byte, and the generation to tag its translation with. NULL: a fault or no
 * plain memory; cpu->fault may have been filled in, which nobody is to look at. */
EMU_PRIV const uint8_t *cpu_code_host(struct cpu *c, uint64_t va, uint32_t *generation);
EMU_PRIV void tlb_flush_all(struct cpu *c);      /* new generation, global pages too */
EMU_PRIV void tlb_flush_nonglobal(struct cpu *c);
EMU_PRIV void tlb_flush_page(struct cpu *c, uint64_t va);
EMU_PRIV void tlb_flush_pcid(struct cpu *c, unsigned pcid);
EMU_PRIV void tlb_set_cr3(struct cpu *c, uint64_t cr3, bool keep); /* PCID: keep = bit 63 was set */
EMU_PRIV void tlb_machine_changed(struct emu *e); /* memory map, page flags: every CPU takes a new generation */
/* The page got PAGE_HAS_CODE, _TRACKED or _WATCHED: no CPU may store into it directly any more. Cheaper than tlb_machine_changed(). */
/* Would an access of up to a page at linear va fault? No change but A and D bits. */
EMU_PRIV int cpu_check_linear(struct cpu *c, uint64_t va, unsigned size, unsigned access);
EMU_PRIV void tlb_protect_page(struct emu *e, struct ram_block *block, uint64_t block_offset);
/* Watchpoint of the debugger on linear addresses of every CPU (kind as in struct breakpoint: 1 write, 2 read, 3 both). */
EMU_PRIV int mem_watch_set(struct emu *e, uint64_t va, uint64_t size, unsigned kind, bool on);
EMU_INLINE bool cpu_canonical(const struct cpu *c, uint64_t va)
{
    unsigned bits = c->cr4 & CR4_LA57 ? 57 : 48;
    return (uint64_t)sext64(va, bits) == va;
}
EMU_PRIV uint32_t cpu_new_generation(struct emu *e);
EMU_PRIV int mem_mmu_create(struct cpu *c);
EMU_PRIV void mem_mmu_destroy(struct cpu *c);
/* For debugger and monitor: linear -> physical without side effects; false: not mapped. */
EMU_PRIV bool cpu_debug_translate(struct cpu *c, uint64_t va, uint64_t *gpa);
EMU_PRIV bool cpu_debug_read(struct cpu *c, uint64_t va, void *buf, size_t size);
EMU_PRIV bool cpu_debug_write(struct cpu *c, uint64_t va, const void *buf, size_t size);

/* ================= paging.c ================= */
struct walk {
    uint64_t gpa;      /* of va itself */
    uint64_t page_size;
    bool writable, user, executable, global, dirty; /* effective rights of the mapping; dirty: D is set (may be cached for writing) */
    uint8_t pkey;
};
/* Walks the tables for one access by CPL (or supervisor), sets A/D bits, checks all rights. 0 or CPU_FAULT with #PF filled in. */
EMU_PRIV int mmu_walk(struct cpu *c, uint64_t va, unsigned access, struct walk *out);
EMU_PRIV int mmu_load_pdptes(struct cpu *c, uint64_t cr3); /* PAE outside long mode; 0 or CPU_FAULT with #GP(0), nothing changed */

/* ================= exception.c, segment.c, control.c, system.c, cpuid.c ================= */
/* Delivers cpu->fault at cpu->rip (faults) or cpu->next_rip (soft interrupts, traps), nested faults included, up to triple fault (cpu->shutdown). */
EMU_PRIV void cpu_deliver_fault(struct cpu *c);
EMU_PRIV void cpu_deliver_interrupt(struct cpu *c, unsigned vector); /* external or NMI, at cpu->rip */
EMU_PRIV int cpu_software_interrupt(struct cpu *c, unsigned vector, unsigned flags); /* INT n, INT3, INTO: as an insn_fn body */
EMU_PRIV void cpu_debug_trap(struct cpu *c, uint64_t dr6_bits); /* single step, data breakpoints: after the instruction, at cpu->rip */
/* Instruction breakpoints in DR0-3, before each instruction under KEY_DEBUG, va linear: CPU_FAULT with #DB in cpu->fault (deliver it). EFLAGS.RF
 * suppresses it once; this function clears RF then, nobody else need do so. */
EMU_PRIV int cpu_check_exec_breakpoint(struct cpu *c, uint64_t va);
EMU_PRIV void cpu_check_io_breakpoint(struct cpu *c, uint16_t port, unsigned size); /* sets debug_hits */
EMU_PRIV int cpu_load_segment(struct cpu *c, unsigned seg, uint16_t selector); /* MOV/POP/LDS.. to ES, SS, DS, FS, GS */
EMU_PRIV void cpu_set_segment_real(struct cpu *c, unsigned seg, uint16_t selector);
EMU_PRIV int cpu_far_transfer(struct cpu *c, uint16_t selector, uint64_t offset, unsigned opsize, bool call); /* JMP/CALL far */
EMU_PRIV int cpu_far_return(struct cpu *c, unsigned opsize, unsigned release); /* RETF imm16 */
EMU_PRIV int cpu_iret(struct cpu *c, unsigned opsize);
EMU_PRIV int cpu_syscall(struct cpu *c);
EMU_PRIV int cpu_sysret(struct cpu *c, unsigned opsize);
EMU_PRIV int cpu_sysenter(struct cpu *c);
EMU_PRIV int cpu_sysexit(struct cpu *c, unsigned opsize);
EMU_PRIV int cpu_push(struct cpu *c, uint64_t value, unsigned size);
EMU_PRIV int cpu_pop(struct cpu *c, uint64_t *value, unsigned size); /* changes RSP */
EMU_PRIV int sys_pushf(struct cpu *c, const struct insn *i); /* system.c; the trace builder knows these */
EMU_PRIV int sys_cli(struct cpu *c, const struct insn *i);
EMU_PRIV int sys_sti(struct cpu *c, const struct insn *i);
EMU_PRIV int sys_clac(struct cpu *c, const struct insn *i);
EMU_PRIV void cpu_update_ac(struct cpu *c); /* the same where only EFLAGS.AC has changed, at CPL 0 */
EMU_PRIV void cpu_update_mode(struct cpu *c); /* mode, code_size, mode_key, seg_base[], cpl-dependent state */
EMU_PRIV int cpu_check_io(struct cpu *c, uint16_t port, unsigned size); /* IOPL and the TSS's bitmap; 0 or CPU_FAULT */
EMU_PRIV int cpu_pause(struct cpu *c, const struct insn *i); /* insn_fn of PAUSE */
EMU_PRIV uint64_t cpu_tsc(struct cpu *c);
EMU_PRIV uint64_t cpu_tsc_hz(void);
EMU_PRIV int64_t cpu_tsc_to_ns(struct cpu *c, uint64_t tsc); /* virtual time at which the TSC has that value */
EMU_PRIV void cpu_cpuid(struct cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
EMU_PRIV int cpu_set_model(struct cpu *c, const char *model, struct err *err); /* -cpu NAME,+f,-f */
EMU_PRIV void cpu_print_models(struct buf *out);
EMU_PRIV void cpu_reset(struct cpu *c, bool init); /* init: INIT signal (x87/SSE, MTRRs kept) */
/* Firmware and loaders: puts the CPU into a state to start from. */
struct cpu_boot {
    enum { CPU_BOOT_REAL, CPU_BOOT_PROT32, CPU_BOOT_LONG64 } kind;
    uint16_t cs, ds, es, ss; /* REAL: paragraphs */
    uint64_t rip, gpr[16], cr3;
    uint64_t gdt_base; /* PROT32/LONG64: where a flat GDT lies that the loader wrote; selectors in cs, ds, ... */
    uint32_t gdt_limit;
};
EMU_PRIV void cpu_load_boot_state(struct cpu *c, const struct cpu_boot *b);
EMU_PRIV void cpu_set_mtrrs(struct cpu *c); /* as firmware leaves them; cpu_load_boot_state() does it, firmware for the other CPUs */
EMU_PRIV void cpu_print_registers(struct cpu *c, struct buf *out); /* info registers, -d cpu */
EMU_PRIV void cpu_log_registers(struct cpu *c, unsigned mask);      /* the same into the log, a line each */

/* ================= softfloat.c, x87.c, sse ================= */
EMU_PRIV void x87_reset(struct cpu *c, bool power_on);
EMU_PRIV int x87_check_pending(struct cpu *c); /* #MF or FERR# if an unmasked exception waits */
/* FXSAVE image layout (512 bytes) of x87, MMX and SSE state. */
EMU_PRIV void x87_pack_fxsave(struct cpu *c, uint8_t image[512], bool long_form);
EMU_PRIV void x87_unpack_fxsave(struct cpu *c, const uint8_t image[512], bool long_form);
EMU_PRIV uint16_t x87_tag_word(const struct cpu *c); /* two bits a register, for FSTENV and the debugger */

/* ================= run.c, trace.c ================= */
enum cpu_int { /* bits of cpu->pending */
    CPU_INT_INTR = 1, /* level: apic_acknowledge() has a vector */
    CPU_INT_NMI = 2, CPU_INT_INIT = 4, CPU_INT_SIPI = 8
};
enum cpu_attention { /* bits of cpu->attention: why the engine is to leave at the next exit */
    CPU_ATTENTION_INT = 1,    /* pending changed */
    CPU_ATTENTION_TIMER = 2,  /* an event was armed earlier than the running budget reaches, or PAUSE: CPU_EXIT_BUDGET at once */
    CPU_ATTENTION_REQUEST = 4, /* emu->requests */
    CPU_ATTENTION_CODE = 8    /* cached code was written to: leave after the present instruction */
};
EMU_PRIV void cpu_set_interrupt(struct cpu *c, unsigned kind, bool on);
EMU_PRIV void cpu_kick(struct cpu *c); /* the next exit leaves the traces */
EMU_PRIV void cpu_send_sipi(struct cpu *c, uint8_t vector);
enum cpu_exit { CPU_EXIT_BUDGET, CPU_EXIT_HALTED, CPU_EXIT_SHUTDOWN, CPU_EXIT_REQUEST, CPU_EXIT_BREAKPOINT, CPU_EXIT_WATCHPOINT };
/* Runs up to `budget` instructions, exactly: stops early only for the reasons above. */
EMU_PRIV enum cpu_exit cpu_run(struct cpu *c, int64_t budget);
EMU_PRIV enum cpu_exit cpu_step(struct cpu *c); /* one instruction, no trace, breakpoints ignored */
EMU_PRIV uint64_t cpu_insn_count(struct cpu *c); /* retired so far; exact even inside a callback */
EMU_PRIV bool cpu_can_run(const struct cpu *c);  /* not halted (or woken), not waiting for SIPI */
EMU_PRIV int cpu_create(struct emu *e, unsigned index, struct cpu **out, struct err *err);
EMU_PRIV void cpu_destroy(struct cpu *c);
EMU_PRIV int trace_cache_create(struct emu *e);
EMU_PRIV void trace_cache_destroy(struct emu *e);
EMU_PRIV void trace_code_written(struct emu *e, struct ram_block *b, uint64_t offset, uint64_t size);
EMU_PRIV void trace_flush_all(struct emu *e);
struct trace_stats {
    uint64_t insns_step, insns_tier1, insns_tier2, lookups, traces_built, tier2_built, insns_built, invalidations, flushes, build_ns;
    uint64_t slow_path, misses; /* accesses that went all the way; uops whose page was another */
};
EMU_PRIV void trace_get_stats(struct emu *e, struct trace_stats *out);
/* Breakpoints of the debugger: linear addresses; data: kind bits 1 write, 2 read. */
struct breakpoint {
    uint64_t va, size;
    uint8_t kind; /* 0 execute, 1 write, 2 read, 3 both */
};
EMU_PRIV int cpu_breakpoint_set(struct emu *e, const struct breakpoint *b, bool on);

#endif
