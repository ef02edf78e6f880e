/* cpu/state.c - the CPU's state as a whole: reset, derived mode, boot states, printing.
 *
 * Models     Intel SDM vol. 3 table 10-1 (state after power-up, reset, INIT); modes of vol. 3 chapter 2.
 * Contract   Whoever changes CR0, CR4, EFER, XCR0, DR7, CPL, EFLAGS.VM/AC or a segment calls cpu_update_mode() afterwards; loaders
 *            call cpu_load_boot_state(), run.c and the board cpu_reset().
 * Theory     Everything a trace was specialised on is in mode_key, so a mode change is the choice of another key and costs no
 *            flush of traces.
 * Invariants 1. mode, code_size, mode_key, seg_base[] and tlb_set are functions of the rest, written here only.
 *            2. In 64-bit mode seg_base[] of ES, CS, SS, DS is 0, whatever the descriptors say.
 * Missing    SMM.
 */
#include "../machine.h"
#include "cpu.h"

/* ORDER mode_key */
static bool state_is_flat(const struct seg *s, bool code)
{
    if ((s->attr & (SEG_UNUSABLE | SEG_S | SEG_P)) != (SEG_S | SEG_P) || s->base || s->limit != 0xFFFFFFFFu)
        return false;
    if (code)
        return (s->attr & (SEG_CODE | SEG_WRITE_READ)) == (SEG_CODE | SEG_WRITE_READ);
    return (s->attr & (SEG_CODE | SEG_WRITE_READ | SEG_DOWN_CONFORM)) == SEG_WRITE_READ;
}

EMU_PRIV void cpu_update_mode(struct cpu *c)
{
    uint32_t key;
    unsigned s;
    const struct seg *cs = &c->seg[SEG_CS];
    bool smap;
    if (!(c->cr0 & CR0_PE))
        c->mode = MODE_REAL;
    else if (c->eflags & FLAG_VM)
        c->mode = MODE_V86;
    else if (!(c->efer & EFER_LMA))
        c->mode = MODE_PROT;
    else
        c->mode = cs->attr & SEG_L ? MODE_LONG : MODE_COMPAT;
    c->code_size = c->mode == MODE_LONG ? 8 : cs->attr & SEG_DB ? 4 : 2;
    key = c->code_size == 8 ? KEY_CS64 : c->code_size == 4 ? KEY_CS32 : KEY_CS16;
    for (s = 0; s < SEG_COUNT; s++) /* outside of 64-bit mode addresses have 32 bits: FS and GS may have kept wider bases */
        c->seg_base[s] = c->mode == MODE_LONG || s >= SEG_LDTR ? c->seg[s].base : (uint32_t)c->seg[s].base;
    if (c->mode == MODE_LONG) {
        c->seg_base[SEG_ES] = c->seg_base[SEG_CS] = c->seg_base[SEG_SS] = c->seg_base[SEG_DS] = 0;
        key |= KEY_SS32 | KEY_FLAT_ES | KEY_FLAT_CS | KEY_FLAT_SS | KEY_FLAT_DS;
    } else {
        if (c->seg[SEG_SS].attr & SEG_DB)
            key |= KEY_SS32;
        if (state_is_flat(&c->seg[SEG_ES], false))
            key |= KEY_FLAT_ES;
        if (state_is_flat(cs, true))
            key |= KEY_FLAT_CS;
        if (state_is_flat(&c->seg[SEG_SS], false))
            key |= KEY_FLAT_SS;
        if (state_is_flat(&c->seg[SEG_DS], false))
            key |= KEY_FLAT_DS;
    }
    if (c->cpl == 3)
        key |= KEY_USER;
    if (c->cpl == 0)
        key |= KEY_KERNEL;
    if (c->mode == MODE_REAL || c->mode == MODE_V86)
        key |= KEY_REAL;
    if (c->mode == MODE_V86)
        key |= KEY_V86;
    if (c->cr0 & CR0_PG)
        key |= KEY_PAGING;
    smap = c->cpl < 3 && (c->cr4 & CR4_SMAP) && (c->cr0 & CR0_PG);
    if (smap && !(c->eflags & FLAG_AC))
        key |= KEY_SMAP;
    if (c->cpl == 3 && (c->cr0 & CR0_AM) && (c->eflags & FLAG_AC))
        key |= KEY_AC;
    if (c->cr0 & (CR0_EM | CR0_TS))
        key |= KEY_NO_X87;
    if ((c->cr0 & (CR0_EM | CR0_TS)) || !(c->cr4 & CR4_OSFXSR))
        key |= KEY_NO_SSE;
    if ((c->cr0 & CR0_TS) || !(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6 || (key & KEY_REAL))
        key |= KEY_NO_AVX;
    if (c->efer & EFER_LMA)
        key |= KEY_LONG;
    if ((c->dr[7] & 0xFF) || c->debugger_stops)
        key |= KEY_DEBUG;
    c->mode_key = key;
    c->tlb_set = c->cpl == 3 ? 1 : smap && (c->eflags & FLAG_AC) ? 2 : 0;
}

EMU_PRIV void cpu_update_ac(struct cpu *c)
{
    if (!(c->cr4 & CR4_SMAP) || !(c->cr0 & CR0_PG))
        return;
    c->mode_key = c->eflags & FLAG_AC ? c->mode_key & ~(uint32_t)KEY_SMAP : c->mode_key | KEY_SMAP;
    c->tlb_set = c->eflags & FLAG_AC ? 2 : 0;
}

static void state_set_segment(struct seg *s, uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr)
{
    s->selector = selector;
    s->base = base;
    s->limit = limit;
    s->attr = attr;
}

enum {
    STATE_DATA = SEG_P | SEG_S | SEG_WRITE_READ | SEG_ACCESSED,
    STATE_CODE = SEG_P | SEG_S | SEG_CODE | SEG_WRITE_READ | SEG_ACCESSED,
    STATE_LDT = SEG_P | 2,
    STATE_TSS32_BUSY = SEG_P | 11
};

EMU_PRIV void cpu_log_registers(struct cpu *c, unsigned mask)
{
    struct buf b;
    size_t at = 0;
    buf_init(&b, c->emu);
    cpu_print_registers(c, &b);
    while (at < b.size) {
        const uint8_t *end = memchr(b.data + at, '\n', b.size - at);
        size_t n = end ? (size_t)(end - b.data) - at : b.size - at;
        emu_log(c->emu, mask, "%.*s", (int)n, (const char *)b.data + at);
        at += n + 1;
    }
    buf_free(&b);
}

EMU_PRIV void cpu_reset(struct cpu *c, bool init)
{
    unsigned k;
    uint64_t cr0_kept = init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;
    memset(c->gpr, 0, sizeof c->gpr);
    c->gpr[GPR_RDX] = c->signature;
    c->rip = 0xFFF0;
    c->eflags = 2;
    cpu_set_arith_flags(c, 0);
    c->cr0 = CR0_ET | cr0_kept;
    c->cr2 = c->cr3 = c->cr4 = 0;
    c->efer = 0;
    memset(c->dr, 0, sizeof c->dr);
    c->dr[6] = 0xFFFF0FF0u;
    c->dr[7] = 0x400;
    c->debug_hits = 0;
    c->watch_hit = false;
    for (k = 0; k < SEG_COUNT; k++)
        state_set_segment(&c->seg[k], 0, 0, 0xFFFF, STATE_DATA);
    state_set_segment(&c->seg[SEG_CS], 0xF000, 0xFFFF0000u, 0xFFFF, STATE_CODE);
    state_set_segment(&c->seg[SEG_LDTR], 0, 0, 0xFFFF, STATE_LDT);
    state_set_segment(&c->seg[SEG_TR], 0, 0, 0xFFFF, STATE_TSS32_BUSY);
    c->gdtr.base = c->idtr.base = 0;
    c->gdtr.limit = c->idtr.limit = 0xFFFF;
    c->cpl = 0;
    c->halted = c->shutdown = false;
    c->waiting_sipi = c->index != 0;
    c->interrupt_shadow = 0;
    c->nmi_blocked = false;
    c->monitor_armed = false;
    memset(&c->fault, 0, sizeof c->fault);
    memset(c->pdpte, 0, sizeof c->pdpte);
    if (!init) {
        c->pending = 0;
        memset(c->xmm, 0, sizeof c->xmm);
        c->mxcsr = 0x1F80;
        x87_reset(c, true);
        c->xcr0 = 1;
        c->pkru = 0;
        c->star = c->lstar = c->cstar = c->fmask = c->kernel_gs_base = 0;
        c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = c->tsc_aux = 0;
        c->pat = UINT64_C(0x0007040600070406);
        c->misc_enable = 1 | UINT64_C(3) << 11 /* no BTS, no PEBS */ | (cpu_has(c, CPU_MONITOR) ? UINT64_C(1) << 18 : 0);
        c->apic_base = UINT64_C(0xFEE00800) | (c->index == 0 ? 0x100 : 0);
        memset(c->mtrr, 0, sizeof c->mtrr);
        c->tsc_offset = 0;
        c->mcg_status = c->mcg_ctl = c->debugctl = c->feature_control = c->spec_ctrl = c->misc_features = 0;
        memset(c->mc_bank, 0, sizeof c->mc_bank);
    }
    c->attention |= CPU_ATTENTION_INT;
    tlb_flush_all(c);
    cpu_update_mode(c);
    if (EMU_LOG_ENABLED(c->emu, LOG_CPU_RESET)) {
        emu_log(c->emu, LOG_CPU_RESET, "CPU %s (CPU %u)", init ? "INIT" : "Reset", c->index);
        cpu_log_registers(c, LOG_CPU_RESET);
    }
}

/* MTRRs as PC firmware leaves them, without which Linux uses no PAT: write-back, the VGA window and the space below 4 GiB behind RAM
 * uncached, the ROM area write-protected. ORDER mtrr_slot (msr.c) */
EMU_PRIV void cpu_set_mtrrs(struct cpu *c)
{
    uint64_t low = c->emu->ram_below_4g, size = UINT64_C(1) << 28, mask = (UINT64_C(1) << c->phys_bits) - 1;
    unsigned k;
    if (!cpu_has(c, CPU_MTRR))
        return;
    while (size < UINT64_C(1) << 31 && UINT64_C(0x100000000) - size * 2 >= low)
        size *= 2;
    memset(c->mtrr, 0, sizeof c->mtrr);
    c->mtrr[0] = 0xC06;                                                                     /* on, fixed ranges on, default write-back */
    c->mtrr[1] = c->mtrr[2] = UINT64_C(0x0606060606060606);                                 /* 0-9FFFFh */
    for (k = 4; k < 12; k++)
        c->mtrr[k] = UINT64_C(0x0505050505050505);                                          /* C0000h-FFFFFh */
    c->mtrr[12] = UINT64_C(0x100000000) - size;                                             /* uncached */
    c->mtrr[13] = (mask & ~(size - 1)) | 0x800;
}

EMU_PRIV void cpu_load_boot_state(struct cpu *c, const struct cpu_boot *b)
{
    static const uint8_t which[4] = { SEG_CS, SEG_DS, SEG_ES, SEG_SS };
    uint16_t selector[4];
    unsigned k;
    cpu_reset(c, false);
    c->waiting_sipi = false;
    c->cr0 = CR0_ET;
    selector[0] = b->cs;
    selector[1] = b->ds;
    selector[2] = b->es;
    selector[3] = b->ss;
    if (b->kind == CPU_BOOT_REAL) {
        for (k = 0; k < 4; k++)
            state_set_segment(&c->seg[which[k]], selector[k], (uint32_t)selector[k] << 4, 0xFFFF, which[k] == SEG_CS ? STATE_CODE : STATE_DATA);
    } else {
        bool wide = b->kind == CPU_BOOT_LONG64;
        for (k = 0; k < 4; k++)
            state_set_segment(&c->seg[which[k]], selector[k], 0, 0xFFFFFFFFu,
                              which[k] == SEG_CS ? STATE_CODE | SEG_G | (wide ? SEG_L : SEG_DB) : STATE_DATA | SEG_G | SEG_DB);
        c->seg[SEG_FS] = c->seg[SEG_GS] = c->seg[SEG_DS];
        c->cr0 |= CR0_PE;
        if (wide) {
            c->cr0 |= CR0_PG;
            c->cr4 |= CR4_PAE;
            c->efer = EFER_LME | EFER_LMA;
        }
        c->gdtr.base = b->gdt_base;
        c->gdtr.limit = b->gdt_limit;
    }
    cpu_set_mtrrs(c);
    c->cr3 = b->cr3;
    for (k = 0; k < 16; k++)
        c->gpr[k] = b->gpr[k];
    c->rip = b->rip;
    tlb_flush_all(c);
    cpu_update_mode(c);
}

/* ---- printing ---- */

EMU_PRIV void cpu_print_registers(struct cpu *c, struct buf *out)
{
    static const char *const names[16] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15" };
    static const uint8_t order[16] = { 0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15 };
    static const char *const segs[SEG_COUNT] = { "ES ", "CS ", "SS ", "DS ", "FS ", "GS ", "LDT", "TR " };
    uint32_t fl = cpu_eflags(c);
    bool wide = (c->efer & EFER_LMA) != 0 || cpu_has(c, CPU_LM);
    int width = wide ? 16 : 8;
    unsigned k;
    for (k = 0; k < (wide ? 16u : 8u); k++)
        buf_printf(out, "%c%.2s=%0*" PRIx64 "%s", wide ? names[order[k]][0] : 'E', names[order[k]] + 1, width, c->gpr[order[k]], k % 4 == 3 ? "\n" : " ");
    buf_printf(out, "%s=%0*" PRIx64 " %s=%08x [%c%c%c%c%c%c%c] CPL=%d II=%d A20=%d SMM=0 HLT=%d\n", wide ? "RIP" : "EIP", width, c->rip,
               wide ? "RFL" : "EFL", (unsigned)fl, fl & FLAG_DF ? 'D' : '-', fl & FLAG_OF ? 'O' : '-', fl & FLAG_SF ? 'S' : '-',
               fl & FLAG_ZF ? 'Z' : '-', fl & FLAG_AF ? 'A' : '-', fl & FLAG_PF ? 'P' : '-', fl & FLAG_CF ? 'C' : '-', c->cpl,
               c->interrupt_shadow != 0, ((c->emu->a20_mask >> 20) & 1) != 0, c->halted);
    for (k = 0; k < SEG_COUNT; k++) {
        const struct seg *s = &c->seg[k];
        buf_printf(out, "%s=%04x %0*" PRIx64 " %08x %08x DPL=%u %s%s\n", segs[k], s->selector, width, s->base, (unsigned)s->limit,
                   (unsigned)(s->attr & 0xFFFF) << 8, (unsigned)(s->attr & SEG_DPL) >> 5, s->attr & SEG_UNUSABLE ? "unusable" : k == SEG_LDTR ? "LDT" : k == SEG_TR ? "TSS" :
                   s->attr & SEG_CODE ? (s->attr & SEG_L ? "CS64" : s->attr & SEG_DB ? "CS32" : "CS16") : (s->attr & SEG_DB ? "DS32" : "DS16"),
                   k < SEG_LDTR && !(s->attr & SEG_UNUSABLE) ? (s->attr & SEG_WRITE_READ ? (s->attr & SEG_CODE ? " [R]" : " [W]") : " [-]") : "");
    }
    buf_printf(out, "GDT=     %0*" PRIx64 " %08x\nIDT=     %0*" PRIx64 " %08x\n", width, c->gdtr.base, (unsigned)c->gdtr.limit, width, c->idtr.base,
               (unsigned)c->idtr.limit);
    buf_printf(out, "CR0=%08x CR2=%0*" PRIx64 " CR3=%0*" PRIx64 " CR4=%08x\n", (unsigned)c->cr0, width, c->cr2, width, c->cr3, (unsigned)c->cr4);
    for (k = 0; k < 4; k++)
        buf_printf(out, "DR%u=%0*" PRIx64 "%s", k, width, c->dr[k], k == 3 ? "\n" : " ");
    buf_printf(out, "DR6=%0*" PRIx64 " DR7=%0*" PRIx64 "\nEFER=%016" PRIx64 "\n", width, c->dr[6], width, c->dr[7], c->efer);
    buf_printf(out, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", c->x87_control, (c->x87_status & 0xC7FFu) | ((unsigned)(c->x87_top & 7) << 11),
               c->x87_top & 7u, (unsigned)(uint8_t)~c->x87_tags, (unsigned)c->mxcsr);
    for (k = 0; k < 8; k++) {
        const struct x87_reg *r = &c->x87[(c->x87_top + k) & 7];
        buf_printf(out, "FPR%u=%016" PRIx64 " %04x%s", k, r->mant, r->exp, k & 1 ? "\n" : " ");
    }
    for (k = 0; k < (wide ? 16u : 8u); k++)
        buf_printf(out, "XMM%02u=%016" PRIx64 "%016" PRIx64 "%s", k, c->xmm[k].q[1], c->xmm[k].q[0], k & 1 ? "\n" : " ");
}
