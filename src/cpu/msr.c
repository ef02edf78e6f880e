/* cpu/msr.c - model-specific registers.
 *
 * Models     Intel SDM vol. 4; architectural MSRs of chapter 2.1, and those of later families that operating systems touch without asking.
 * Contract   RDMSR and WRMSR in system.c come here after the privilege check. APIC base, x2APIC registers and the TSC deadline belong to
 *            lapic.c.
 * Theory     A register exists if its CPUID feature does. An unknown one is #GP(0), which guests expect and handle, and is named once in
 *            the log (-d guest_errors).
 * Invariants 1. A write that faults changes nothing.
 *            2. Reserved bits that the manual says fault do fault; MTRRs and PAT are kept and checked but have no effect: there is no cache.
 * Missing    Performance counters, branch records, RAPL, VMX, microcode update (accepted, ignored), machine-check injection.
 */
#include "../machine.h"
#include "cpu.h"
#include "desc.h"

enum {
    MSR_P5_MC_ADDR = 0x0, MSR_P5_MC_TYPE = 0x1, MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1B, MSR_EBL_CR_POWERON = 0x2A, MSR_SMI_COUNT = 0x34, MSR_FEATURE_CONTROL = 0x3A,
    MSR_TSC_ADJUST = 0x3B, MSR_SPEC_CTRL = 0x48, MSR_PRED_CMD = 0x49, MSR_BIOS_UPDT_TRIG = 0x79, MSR_BIOS_SIGN_ID = 0x8B, MSR_FSB_FREQ = 0xCD,
    MSR_PLATFORM_INFO = 0xCE, MSR_MTRRCAP = 0xFE, MSR_ARCH_CAPABILITIES = 0x10A, MSR_BBL_CR_CTL3 = 0x11E, MSR_MISC_FEATURES = 0x140, MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176, MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17A, MSR_MCG_CTL = 0x17B, MSR_PERF_STATUS = 0x198, MSR_PERF_CTL = 0x199, MSR_MISC_ENABLE = 0x1A0,
    MSR_DEBUGCTL = 0x1D9, MSR_LAST_BRANCH_FROM = 0x1DB, MSR_LAST_INT_TO = 0x1DE, MSR_MTRR_PHYS = 0x200, MSR_MTRR_PHYS_END = 0x210, MSR_MTRR_FIX64K = 0x250, MSR_MTRR_FIX16K_0 = 0x258,
    MSR_MTRR_FIX16K_1 = 0x259, MSR_MTRR_FIX4K = 0x268, MSR_MTRR_FIX4K_END = 0x270, MSR_PAT = 0x277, MSR_MTRR_DEF_TYPE = 0x2FF, MSR_MC0_CTL = 0x400,
    MSR_TSC_DEADLINE = 0x6E0, MSR_X2APIC = 0x800, MSR_X2APIC_END = 0x900
};
#define MSR_EFER UINT32_C(0xC0000080)
#define MSR_STAR UINT32_C(0xC0000081)
#define MSR_LSTAR UINT32_C(0xC0000082)
#define MSR_CSTAR UINT32_C(0xC0000083)
#define MSR_FMASK UINT32_C(0xC0000084)
#define MSR_FS_BASE UINT32_C(0xC0000100)
#define MSR_GS_BASE UINT32_C(0xC0000101)
#define MSR_KERNEL_GS_BASE UINT32_C(0xC0000102)
#define MSR_TSC_AUX UINT32_C(0xC0000103)
/* The -NO bits: nothing here speculates, so no guest need pay for mitigations (SDM vol. 4 table 2-2, IA32_ARCH_CAPABILITIES). */
enum {
    ARCH_CAP_RDCL_NO = 1 << 0, ARCH_CAP_IBRS_ALL = 1 << 1, ARCH_CAP_SKIP_VMENTRY = 1 << 3, ARCH_CAP_SSB_NO = 1 << 4, ARCH_CAP_MDS_NO = 1 << 5,
    ARCH_CAP_PSCHANGE_MC_NO = 1 << 6, ARCH_CAP_TAA_NO = 1 << 8, ARCH_CAP_SBDR_SSDP_NO = 1 << 13, ARCH_CAP_FBSDP_NO = 1 << 14, ARCH_CAP_PSDP_NO = 1 << 15,
    ARCH_CAP_BHI_NO = 1 << 20, ARCH_CAP_PBRSB_NO = 1 << 24, ARCH_CAP_GDS_NO = 1 << 26, ARCH_CAP_RFDS_NO = 1 << 27
};
#define ARCH_CAP_ITS_NO (UINT64_C(1) << 62)
enum { MSR_MC_BANKS = 4, MSR_MTRR_VARIABLE = 8, MSR_PLATFORM_RATIO = 10 /* x 100 MHz */ };

static int msr_fault(struct cpu *c, uint32_t msr, bool write, uint64_t value)
{
    unsigned k;
    for (k = 0; k < c->msr_unknown_count; k++)
        if (c->msr_unknown[k] == msr)
            return cpu_raise_error(c, EXC_GP, 0);
    if (c->msr_unknown_count < EMU_ARRAY_LEN(c->msr_unknown)) {
        c->msr_unknown[c->msr_unknown_count++] = msr;
        if (write)
            emu_log(c->emu, LOG_GUEST_ERROR, "cpu %u: WRMSR 0x%x = 0x%" PRIx64 " is not supported: #GP", c->index, (unsigned)msr, value);
        else
            emu_log(c->emu, LOG_GUEST_ERROR, "cpu %u: RDMSR 0x%x is not supported: #GP", c->index, (unsigned)msr);
    }
    return cpu_raise_error(c, EXC_GP, 0);
}

/* ORDER mtrr_slot. Place in cpu->mtrr[]: 0 default type, 1-11 fixed ranges, 12-27 variable ones. -1: no MTRR. */
static int msr_mtrr_slot(const struct cpu *c, uint32_t msr)
{
    if (!cpu_has(c, CPU_MTRR))
        return -1;
    if (msr == MSR_MTRR_DEF_TYPE)
        return 0;
    if (msr == MSR_MTRR_FIX64K)
        return 1;
    if (msr == MSR_MTRR_FIX16K_0 || msr == MSR_MTRR_FIX16K_1)
        return 2 + (int)(msr - MSR_MTRR_FIX16K_0);
    if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K_END)
        return 4 + (int)(msr - MSR_MTRR_FIX4K);
    if (msr >= MSR_MTRR_PHYS && msr < MSR_MTRR_PHYS_END)
        return 12 + (int)(msr - MSR_MTRR_PHYS);
    return -1;
}

static bool msr_memory_type_ok(unsigned t, bool pat) { return t == 0 || t == 1 || t == 4 || t == 5 || t == 6 || (pat && t == 7); }

static bool msr_mtrr_ok(const struct cpu *c, int slot, uint64_t v)
{
    uint64_t high = ~((UINT64_C(1) << c->phys_bits) - 1);
    unsigned k;
    if (slot == 0)
        return !(v & ~UINT64_C(0xCFF)) && msr_memory_type_ok(v & 0xFF, false);
    if (slot < 12) {
        for (k = 0; k < 8; k++)
            if (!msr_memory_type_ok((unsigned)(v >> (8 * k)) & 0xFF, false))
                return false;
        return true;
    }
    if (v & high)
        return false;
    if (slot & 1) /* mask: slot 12 is PHYSBASE0, 13 PHYSMASK0 */
        return !(v & 0x7FF);
    return !(v & 0xF00) && msr_memory_type_ok(v & 0xFF, false);
}

static bool msr_is_amd(const struct cpu *c) { return strcmp(c->vendor, "AuthenticAMD") == 0; }

/* MSRs of AMD's families that its guests read or write without asking first: they read as 0. */
static bool msr_amd_ignored(const struct cpu *c, uint32_t msr)
{
    static const uint32_t known[] = { 0xC0010010, 0xC0010015, 0xC001001F, 0xC0010055, 0xC0010112, 0xC0010113, 0xC0010058, 0xC0011029, 0xC0011022, 0xC0011020, 0xC0011023, 0xC001102A, 0xC0010117, 0xC0010114 };
    unsigned k;
    if (!msr_is_amd(c))
        return false;
    for (k = 0; k < EMU_ARRAY_LEN(known); k++)
        if (known[k] == msr)
            return true;
    return false;
}

static uint64_t msr_arch_capabilities(const struct cpu *c)
{
    return (uint64_t)ARCH_CAP_RDCL_NO | ARCH_CAP_SKIP_VMENTRY | ARCH_CAP_SSB_NO | ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO | ARCH_CAP_SBDR_SSDP_NO |
           ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO | ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO | ARCH_CAP_ITS_NO |
           (cpu_has(c, CPU_SPEC_CTRL) ? ARCH_CAP_IBRS_ALL : 0);
}

static bool msr_is_apic(const struct cpu *c, uint32_t msr)
{
    return (msr == MSR_APIC_BASE && cpu_has(c, CPU_APIC)) || (msr == MSR_TSC_DEADLINE && cpu_has(c, CPU_TSC_DEADLINE)) ||
           (msr >= MSR_X2APIC && msr < MSR_X2APIC_END && cpu_has(c, CPU_X2APIC));
}

/* STAR .. FMASK and the bases come with long mode. */
static bool msr_needs_lm(uint32_t msr) { return (msr >= MSR_STAR && msr <= MSR_FMASK) || (msr >= MSR_FS_BASE && msr <= MSR_KERNEL_GS_BASE); }

EMU_PRIV int msr_read(struct cpu *c, uint32_t msr, uint64_t *value)
{
    bool fault = false;
    int slot;
    *value = 0;
    if (msr_needs_lm(msr) && !cpu_has(c, CPU_LM))
        return msr_fault(c, msr, false, 0);
    if (msr_is_apic(c, msr)) {
        *value = lapic_msr_read(c, msr, &fault);
        return fault ? cpu_raise_error(c, EXC_GP, 0) : CPU_OK;
    }
    slot = msr_mtrr_slot(c, msr);
    if (slot >= 0) {
        *value = c->mtrr[slot];
        return CPU_OK;
    }
    if (msr >= MSR_MC0_CTL && msr < MSR_MC0_CTL + 4 * MSR_MC_BANKS && cpu_has(c, CPU_MCA)) {
        *value = c->mc_bank[(msr - MSR_MC0_CTL) / 4][(msr - MSR_MC0_CTL) & 3];
        return CPU_OK;
    }
    switch (msr) {
    case MSR_P5_MC_ADDR: case MSR_P5_MC_TYPE: case MSR_PLATFORM_ID: case MSR_EBL_CR_POWERON: case MSR_SMI_COUNT: case MSR_BIOS_UPDT_TRIG: break;
    case MSR_TSC: *value = cpu_tsc(c); break;
    case MSR_FEATURE_CONTROL: *value = c->feature_control; break;
    case MSR_TSC_ADJUST:
        if (!cpu_has(c, CPU_TSC_ADJUST))
            return msr_fault(c, msr, false, 0);
        *value = (uint64_t)c->tsc_offset;
        break;
    case MSR_SPEC_CTRL:
        if (!cpu_has(c, CPU_SPEC_CTRL))
            return msr_fault(c, msr, false, 0);
        *value = c->spec_ctrl;
        break;
    case MSR_BIOS_SIGN_ID: *value = UINT64_C(1) << 32; break; /* microcode revision 1 */
    case MSR_FSB_FREQ: *value = 3; break;
    case MSR_PLATFORM_INFO: *value = (uint64_t)MSR_PLATFORM_RATIO << 8; break;
    case MSR_MTRRCAP:
        if (!cpu_has(c, CPU_MTRR))
            return msr_fault(c, msr, false, 0);
        *value = MSR_MTRR_VARIABLE | 1 << 8 /* fixed ranges */ | 1 << 10 /* WC */;
        break;
    case MSR_ARCH_CAPABILITIES:
        if (!cpu_has(c, CPU_ARCH_CAP))
            return msr_fault(c, msr, false, 0);
        *value = msr_arch_capabilities(c);
        break;
    case MSR_BBL_CR_CTL3: *value = 0xBE702111u; break;
    case MSR_MISC_FEATURES: *value = c->misc_features; break;
    case MSR_SYSENTER_CS: *value = c->sysenter_cs; break;
    case MSR_SYSENTER_ESP: *value = c->sysenter_esp; break;
    case MSR_SYSENTER_EIP: *value = c->sysenter_eip; break;
    case MSR_MCG_CAP: *value = MSR_MC_BANKS | 1 << 8 /* MCG_CTL is there */; break;
    case MSR_MCG_STATUS: *value = c->mcg_status; break;
    case MSR_MCG_CTL: *value = c->mcg_ctl; break;
    case MSR_PERF_STATUS: case MSR_PERF_CTL: *value = (uint64_t)MSR_PLATFORM_RATIO << 8; break;
    case MSR_MISC_ENABLE: *value = c->misc_enable; break;
    case MSR_DEBUGCTL: *value = c->debugctl; break;
    case MSR_PAT: *value = c->pat; break;
    case MSR_EFER:
        if (!cpu_has(c, CPU_LM) && !cpu_has(c, CPU_NX) && !cpu_has(c, CPU_SYSCALL))
            return msr_fault(c, msr, false, 0);
        *value = c->efer;
        break;
    case MSR_STAR: *value = c->star; break;
    case MSR_LSTAR: *value = c->lstar; break;
    case MSR_CSTAR: *value = c->cstar; break;
    case MSR_FMASK: *value = c->fmask; break;
    case MSR_FS_BASE: *value = c->seg[SEG_FS].base; break;
    case MSR_GS_BASE: *value = c->seg[SEG_GS].base; break;
    case MSR_KERNEL_GS_BASE: *value = c->kernel_gs_base; break;
    case MSR_TSC_AUX:
        if (!cpu_has(c, CPU_RDTSCP) && !cpu_has(c, CPU_RDPID))
            return msr_fault(c, msr, false, 0);
        *value = c->tsc_aux;
        break;
    default:
        if ((msr >= MSR_LAST_BRANCH_FROM && msr <= MSR_LAST_INT_TO) || msr_amd_ignored(c, msr))
            break;
        return msr_fault(c, msr, false, 0);
    }
    return CPU_OK;
}

static int msr_write_efer(struct cpu *c, uint64_t v)
{
    uint64_t allowed = EFER_LMA, changed;
    if (cpu_has(c, CPU_SYSCALL))
        allowed |= EFER_SCE;
    if (cpu_has(c, CPU_LM))
        allowed |= EFER_LME;
    if (cpu_has(c, CPU_NX))
        allowed |= EFER_NXE;
    if (allowed == EFER_LMA)
        return msr_fault(c, MSR_EFER, true, v);
    if (v & ~allowed)
        return cpu_raise_error(c, EXC_GP, 0);
    v = (v & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
    changed = v ^ c->efer;
    if ((changed & EFER_LME) && (c->cr0 & CR0_PG))
        return cpu_raise_error(c, EXC_GP, 0);
    c->efer = v;
    if (changed & EFER_NXE)
        tlb_flush_all(c);
    cpu_update_mode(c);
    return CPU_OK;
}

static int msr_put_canonical(struct cpu *c, uint64_t *to, uint64_t v)
{
    if (cpu_has(c, CPU_LM) && !cpu_canonical(c, v))
        return cpu_raise_error(c, EXC_GP, 0);
    *to = v;
    return CPU_OK;
}

static int msr_write_bank(struct cpu *c, uint32_t msr, uint64_t v)
{
    unsigned bank = (msr - MSR_MC0_CTL) / 4, reg = (msr - MSR_MC0_CTL) & 3;
    if (reg == 0)
        c->mc_bank[bank][0] = v;
    else if (v == 0) /* STATUS, ADDR and MISC can be cleared only (SDM 3B 15.3.2) */
        c->mc_bank[bank][reg] = 0;
    else
        return cpu_raise_error(c, EXC_GP, 0);
    return CPU_OK;
}

EMU_PRIV int msr_write(struct cpu *c, uint32_t msr, uint64_t v)
{
    bool fault = false;
    int slot;
    unsigned k;
    if (msr_needs_lm(msr) && !cpu_has(c, CPU_LM))
        return msr_fault(c, msr, true, v);
    if (msr_is_apic(c, msr)) {
        lapic_msr_write(c, msr, v, &fault);
        return fault ? cpu_raise_error(c, EXC_GP, 0) : CPU_OK;
    }
    slot = msr_mtrr_slot(c, msr);
    if (slot >= 0) {
        if (!msr_mtrr_ok(c, slot, v))
            return cpu_raise_error(c, EXC_GP, 0);
        c->mtrr[slot] = v;
        return CPU_OK;
    }
    if (msr >= MSR_MC0_CTL && msr < MSR_MC0_CTL + 4 * MSR_MC_BANKS && cpu_has(c, CPU_MCA))
        return msr_write_bank(c, msr, v);
    switch (msr) {
    case MSR_P5_MC_ADDR: case MSR_P5_MC_TYPE: case MSR_EBL_CR_POWERON: case MSR_BIOS_UPDT_TRIG: case MSR_BIOS_SIGN_ID: case MSR_PERF_CTL: case MSR_BBL_CR_CTL3: break;
    case MSR_TSC:
        c->tsc_offset = (int64_t)(v - (uint64_t)emu_now_ns(c->emu));
        lapic_tsc_changed(c); /* the deadline is a value of this counter */
        break;
    case MSR_FEATURE_CONTROL:
        if (c->feature_control & 1)
            return cpu_raise_error(c, EXC_GP, 0);
        c->feature_control = v;
        break;
    case MSR_TSC_ADJUST:
        if (!cpu_has(c, CPU_TSC_ADJUST))
            return msr_fault(c, msr, true, v);
        c->tsc_offset = (int64_t)v;
        lapic_tsc_changed(c);
        break;
    case MSR_SPEC_CTRL:
        if (!cpu_has(c, CPU_SPEC_CTRL))
            return msr_fault(c, msr, true, v);
        if (v & ~(UINT64_C(3) | (cpu_has(c, CPU_BHI_CTRL) ? UINT64_C(1) << 10 : 0))) /* IBRS, STIBP, BHI_DIS_S */
            return cpu_raise_error(c, EXC_GP, 0);
        c->spec_ctrl = v;
        break;
    case MSR_PRED_CMD:
        if (!cpu_has(c, CPU_SPEC_CTRL) || (v & ~UINT64_C(1)))
            return msr_fault(c, msr, true, v);
        break;
    case MSR_MISC_FEATURES:
        if (v)
            return cpu_raise_error(c, EXC_GP, 0);
        break;
    case MSR_SYSENTER_CS: c->sysenter_cs = v; break;
    case MSR_SYSENTER_ESP: return msr_put_canonical(c, &c->sysenter_esp, v);
    case MSR_SYSENTER_EIP: return msr_put_canonical(c, &c->sysenter_eip, v);
    case MSR_MCG_STATUS:
        if (v)
            return cpu_raise_error(c, EXC_GP, 0);
        c->mcg_status = 0;
        break;
    case MSR_MCG_CTL: c->mcg_ctl = v; break;
    case MSR_MISC_ENABLE: c->misc_enable = (v & ~(UINT64_C(3) << 11)) | (c->misc_enable & (UINT64_C(3) << 11)); break;
    case MSR_DEBUGCTL:
        if (v & ~UINT64_C(0xDFC3))
            return cpu_raise_error(c, EXC_GP, 0);
        c->debugctl = v;
        break;
    case MSR_PAT:
        for (k = 0; k < 8; k++)
            if (!msr_memory_type_ok((unsigned)(v >> (8 * k)) & 0xFF, true))
                return cpu_raise_error(c, EXC_GP, 0);
        c->pat = v;
        break;
    case MSR_EFER: return msr_write_efer(c, v);
    case MSR_STAR: c->star = v; break;
    case MSR_LSTAR: return msr_put_canonical(c, &c->lstar, v);
    case MSR_CSTAR: return msr_put_canonical(c, &c->cstar, v);
    case MSR_FMASK: c->fmask = v & 0xFFFFFFFFu; break;
    case MSR_FS_BASE:
    case MSR_GS_BASE:
        if (msr_put_canonical(c, &c->seg[msr == MSR_FS_BASE ? SEG_FS : SEG_GS].base, v))
            return CPU_FAULT;
        cpu_update_mode(c);
        break;
    case MSR_KERNEL_GS_BASE: return msr_put_canonical(c, &c->kernel_gs_base, v);
    case MSR_TSC_AUX:
        if ((!cpu_has(c, CPU_RDTSCP) && !cpu_has(c, CPU_RDPID)) || (v >> 32))
            return msr_fault(c, msr, true, v);
        c->tsc_aux = v;
        break;
    default:
        if (msr_amd_ignored(c, msr))
            break;
        return msr_fault(c, msr, true, v);
    }
    return CPU_OK;
}

#undef ARCH_CAP_ITS_NO
#undef MSR_EFER
#undef MSR_STAR
#undef MSR_LSTAR
#undef MSR_CSTAR
#undef MSR_FMASK
#undef MSR_FS_BASE
#undef MSR_GS_BASE
#undef MSR_KERNEL_GS_BASE
#undef MSR_TSC_AUX
