/* cpu/system.c - the rows of privileged, segment, I/O and other plain-C instructions, and most of their bodies.
 *
 * Models     Intel SDM vol. 2, one function an instruction or a family; vol. 3 chapters 2.5 (control registers), 17.2 (debug registers),
 *            20.3 (VME), 5.10 (selectors), vol. 1 chapter 19 (I/O).
 * Contract   Rows go to decode.c's index. A body is called with cpu->rip and next_rip set and returns CPU_OK or CPU_FAULT; where it moves
 *            control it changes next_rip. MSRs are in msr.c, FXSAVE and XSAVE in xsave.c, transfers in control.c.
 * Invariants 1. Checks come in the manual's order: #UD, then privilege, then operands.
 *            2. Whatever changes derived state ends with cpu_update_mode(), whatever changes translations with tlb_flush_*().
 *            3. An instruction that faults has changed nothing.
 * Missing    RSM, VMX, SGX: no rows, so #UD. MWAIT wakes at once where more than one CPU could write to the monitored line.
 */
#include "../machine.h"
#include "cpu.h"
#include "desc.h"

static int sys_gp(struct cpu *c) { return cpu_raise_error(c, EXC_GP, 0); }
static bool sys_protected(const struct cpu *c) { return c->mode != MODE_REAL && c->mode != MODE_V86; }
static uint64_t sys_wrap(const struct insn *i, uint64_t a) { return i->addrsize == 8 ? a : i->addrsize == 4 ? (uint32_t)a : (uint16_t)a; }
static unsigned sys_iopl(const struct cpu *c) { return (c->eflags & FLAG_IOPL) >> 12; }
#define SYS_PRIVILEGED(c)                                                                                              \
    do {                                                                                                               \
        if ((c)->cpl != 0)                                                                                             \
            return sys_gp(c);                                                                                          \
    } while (0)

/* Result to r/m: memory takes 16 bits, a register the operand size (SMSW, STR, SLDT, MOV from Sreg). */
static int sys_store_word(struct cpu *c, const struct insn *i, uint64_t v)
{
    if (i->memory)
        return insn_store_rm(c, i, 2, v & 0xFFFF);
    cpu_put(c, i->rm, v, i->opsize);
    return CPU_OK;
}

/* ---- segment registers ---- */

static void sys_shadow(struct cpu *c) { c->interrupt_shadow = CPU_SHADOW_SS; }

static int sys_mov_from_seg(struct cpu *c, const struct insn *i)
{
    unsigned s = i->reg & 7;
    if (s > SEG_GS)
        return cpu_raise(c, EXC_UD);
    return sys_store_word(c, i, c->seg[s].selector);
}

static int sys_mov_to_seg(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    unsigned s = i->reg & 7;
    if (s > SEG_GS || s == SEG_CS)
        return cpu_raise(c, EXC_UD);
    if (insn_load_rm(c, i, 2, &v) || cpu_load_segment(c, s, (uint16_t)v))
        return CPU_FAULT;
    if (s == SEG_SS)
        sys_shadow(c);
    return CPU_OK;
}

static unsigned sys_seg_of_opcode(const struct insn *i)
{
    return i->opcode == 0xA0 || i->opcode == 0xA1 ? SEG_FS : i->opcode == 0xA8 || i->opcode == 0xA9 ? SEG_GS : (i->opcode >> 3) & 3u;
}

static int sys_push_seg(struct cpu *c, const struct insn *i)
{
    uint64_t offset = (c->gpr[GPR_RSP] - i->opsize) & seg_stack_mask(c, &c->seg[SEG_SS]);
    unsigned size = i->opsize == 4 ? 2 : i->opsize; /* Intel since Pentium Pro: a 16-bit store into a 32-bit slot */
    if (cpu_store(c, SEG_SS, offset, size, c->seg[sys_seg_of_opcode(i)].selector))
        return CPU_FAULT;
    stack_set_rsp(c, &c->seg[SEG_SS], offset);
    return CPU_OK;
}

static int sys_pop_seg(struct cpu *c, const struct insn *i)
{
    unsigned s = sys_seg_of_opcode(i);
    uint64_t v, mask = seg_stack_mask(c, &c->seg[SEG_SS]), offset = c->gpr[GPR_RSP] & mask;
    if (cpu_load(c, SEG_SS, offset, i->opsize == 4 ? 2 : i->opsize, &v))
        return CPU_FAULT;
    if (s == SEG_SS) { /* the new stack's width does not count yet */
        struct seg old = c->seg[SEG_SS];
        if (cpu_load_segment(c, s, (uint16_t)v))
            return CPU_FAULT;
        stack_set_rsp(c, &old, (offset + i->opsize) & mask);
        sys_shadow(c);
        return CPU_OK;
    }
    if (cpu_load_segment(c, s, (uint16_t)v))
        return CPU_FAULT;
    stack_set_rsp(c, &c->seg[SEG_SS], (offset + i->opsize) & mask);
    return CPU_OK;
}

static int sys_load_far_pointer(struct cpu *c, const struct insn *i, uint64_t *offset, uint16_t *selector)
{
    uint64_t a = insn_address(c, i), v;
    if (cpu_load(c, i->seg, a, i->opsize, offset) || cpu_load(c, i->seg, sys_wrap(i, a + i->opsize), 2, &v))
        return CPU_FAULT;
    *selector = (uint16_t)v;
    return CPU_OK;
}

static int sys_lds(struct cpu *c, const struct insn *i)
{
    uint64_t offset;
    uint16_t selector;
    unsigned s = i->opcode == 0xC4 ? SEG_ES : i->opcode == 0xC5 ? SEG_DS : i->opcode == 0xB2 ? SEG_SS : i->opcode == 0xB4 ? SEG_FS : SEG_GS;
    if (sys_load_far_pointer(c, i, &offset, &selector) || cpu_load_segment(c, s, selector))
        return CPU_FAULT;
    cpu_put(c, i->reg, offset, i->opsize);
    return CPU_OK;
}

/* ---- far transfers ---- */

static int sys_far_imm(struct cpu *c, const struct insn *i) { return cpu_far_transfer(c, i->imm2, i->opsize == 2 ? i->imm & 0xFFFF : i->imm & 0xFFFFFFFFu, i->opsize, i->opcode == 0x9A); }

static int sys_far_mem(struct cpu *c, const struct insn *i)
{
    uint64_t offset;
    uint16_t selector;
    if (sys_load_far_pointer(c, i, &offset, &selector))
        return CPU_FAULT;
    return cpu_far_transfer(c, selector, offset, i->opsize, (i->modrm >> 3 & 7) == 3);
}

static int sys_retf(struct cpu *c, const struct insn *i) { return cpu_far_return(c, i->opsize, i->opcode == 0xCA ? (unsigned)i->imm & 0xFFFF : 0); }
static int sys_iret(struct cpu *c, const struct insn *i) { return cpu_iret(c, i->opsize); }
static int sys_int(struct cpu *c, const struct insn *i) { return cpu_software_interrupt(c, (unsigned)i->imm & 0xFF, FAULT_SOFT_INT | FAULT_INT_N); }
static int sys_int1(struct cpu *c, const struct insn *i)
{
    (void)i;
    return cpu_software_interrupt(c, EXC_DB, FAULT_ICEBP);
}
static int sys_int3(struct cpu *c, const struct insn *i)
{
    (void)i;
    return cpu_software_interrupt(c, EXC_BP, FAULT_SOFT_INT);
}
static int sys_into(struct cpu *c, const struct insn *i)
{
    (void)i;
    return cpu_arith_flags(c) & FLAG_OF ? cpu_software_interrupt(c, EXC_OF, FAULT_SOFT_INT) : CPU_OK;
}
static int sys_syscall(struct cpu *c, const struct insn *i)
{
    (void)i;
    return cpu_syscall(c);
}
static int sys_sysret(struct cpu *c, const struct insn *i) { return cpu_sysret(c, i->opsize); }
static int sys_sysenter(struct cpu *c, const struct insn *i)
{
    (void)i;
    return cpu_sysenter(c);
}
static int sys_sysexit(struct cpu *c, const struct insn *i) { return cpu_sysexit(c, i->opsize); }

/* ---- flags ---- */

EMU_PRIV int sys_cli(struct cpu *c, const struct insn *i)
{
    (void)i;
    if (c->mode == MODE_REAL || (unsigned)sys_iopl(c) >= c->cpl)
        c->eflags &= ~(uint32_t)FLAG_IF;
    else if (c->mode == MODE_V86 ? c->cr4 & CR4_VME : c->cpl == 3 && (c->cr4 & CR4_PVI))
        c->eflags &= ~(uint32_t)FLAG_VIF;
    else
        return sys_gp(c);
    return CPU_OK;
}

EMU_PRIV int sys_sti(struct cpu *c, const struct insn *i)
{
    (void)i;
    if (c->mode == MODE_REAL || sys_iopl(c) >= c->cpl) {
        if (!(c->eflags & FLAG_IF))
            c->interrupt_shadow = CPU_SHADOW_STI;
        c->eflags |= FLAG_IF;
        c->attention |= CPU_ATTENTION_INT;
    } else if ((c->mode == MODE_V86 ? c->cr4 & CR4_VME : c->cpl == 3 && (c->cr4 & CR4_PVI)) && !(c->eflags & FLAG_VIP)) {
        c->eflags |= FLAG_VIF;
    } else {
        return sys_gp(c);
    }
    return CPU_OK;
}

EMU_PRIV int sys_pushf(struct cpu *c, const struct insn *i)
{
    uint32_t flags = cpu_eflags(c) & ~(uint32_t)(FLAG_VM | FLAG_RF);
    if (c->mode == MODE_V86 && sys_iopl(c) != 3) {
        if (!(c->cr4 & CR4_VME) || i->opsize != 2)
            return sys_gp(c);
        flags = (flags & ~(uint32_t)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
    }
    return cpu_push(c, flags, i->opsize);
}

static int sys_popf(struct cpu *c, const struct insn *i)
{
    uint64_t v, rsp = c->gpr[GPR_RSP];
    uint32_t old = cpu_eflags(c), mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT, flags;
    if (c->mode == MODE_V86 && sys_iopl(c) != 3 && (!(c->cr4 & CR4_VME) || i->opsize != 2))
        return sys_gp(c);
    if (cpu_pop(c, &v, i->opsize))
        return CPU_FAULT;
    flags = (uint32_t)v;
    if (c->mode == MODE_V86 && sys_iopl(c) != 3) {
        if ((flags & FLAG_TF) || ((old & FLAG_VIP) && (flags & FLAG_IF))) {
            c->gpr[GPR_RSP] = rsp;
            return sys_gp(c);
        }
        old = (old & ~(uint32_t)FLAG_VIF) | (flags & FLAG_IF ? FLAG_VIF : 0);
    } else {
        if (i->opsize > 2)
            mask |= FLAG_AC | FLAG_ID | FLAG_RF;
        if (c->mode == MODE_REAL || c->cpl == 0)
            mask |= FLAG_IOPL;
        if (c->mode == MODE_REAL || c->cpl <= sys_iopl(c))
            mask |= FLAG_IF;
        flags &= ~(uint32_t)FLAG_RF; /* always cleared */
    }
    cpu_set_eflags(c, (old & ~mask) | (flags & mask) | 2);
    c->attention |= CPU_ATTENTION_INT;
    return CPU_OK;
}

EMU_PRIV int sys_clac(struct cpu *c, const struct insn *i)
{
    if (c->cpl != 0 || c->mode == MODE_V86)
        return cpu_raise(c, EXC_UD);
    if ((i->modrm & 7) == 3)
        c->eflags |= FLAG_AC;
    else
        c->eflags &= ~(uint32_t)FLAG_AC;
    cpu_update_ac(c);
    return CPU_OK;
}

/* ---- I/O ---- */

EMU_PRIV int cpu_check_io(struct cpu *c, uint16_t port, unsigned size)
{
    const struct seg *tr = &c->seg[SEG_TR];
    uint64_t base, bits;
    if (c->mode == MODE_REAL || (c->mode != MODE_V86 && c->cpl <= sys_iopl(c)))
        return CPU_OK;
    if ((tr->attr & SEG_UNUSABLE) || !(tr->attr & 8) || tr->limit < 0x67)
        return sys_gp(c);
    if (cpu_load_linear(c, tr->base + 0x66, 2, &base, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    base += port / 8u;
    if (base + 1 > tr->limit) /* two bytes are always read (SDM 1 19.5.2) */
        return sys_gp(c);
    if (cpu_load_linear(c, tr->base + base, 2, &bits, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if ((bits >> (port & 7)) & ((1u << size) - 1))
        return sys_gp(c);
    return CPU_OK;
}

static int sys_in(struct cpu *c, const struct insn *i)
{
    unsigned size = i->opcode & 1 ? (i->opsize == 2 ? 2 : 4) : 1;
    uint16_t port = (uint16_t)(i->opcode & 8 ? c->gpr[GPR_RDX] : i->imm & 0xFF);
    uint64_t v;
    if (cpu_check_io(c, port, size))
        return CPU_FAULT;
    cpu_check_io_breakpoint(c, port, size);
    v = port_read(c->emu, port, size);
    if (size == 1)
        cpu_put8(c, GPR_RAX, false, (uint8_t)v);
    else
        cpu_put(c, GPR_RAX, v, size);
    return CPU_OK;
}

static int sys_out(struct cpu *c, const struct insn *i)
{
    unsigned size = i->opcode & 1 ? (i->opsize == 2 ? 2 : 4) : 1;
    uint16_t port = (uint16_t)(i->opcode & 8 ? c->gpr[GPR_RDX] : i->imm & 0xFF);
    if (cpu_check_io(c, port, size))
        return CPU_FAULT;
    cpu_check_io_breakpoint(c, port, size);
    port_write(c->emu, port, cpu_get(c, GPR_RAX, size), size);
    return CPU_OK;
}

static int sys_hlt(struct cpu *c, const struct insn *i)
{
    (void)i;
    SYS_PRIVILEGED(c);
    c->halted = true;
    c->attention |= CPU_ATTENTION_INT;
    return CPU_OK;
}

/* PAUSE stands in loops that wait for another processor (spin locks, SeaBIOS counting its processors): those that can run have their turn
 * at once. What is waited for may be true only between this instruction and the next, so that a quantum's end elsewhere would never see it. */
EMU_PRIV int cpu_pause(struct cpu *c, const struct insn *i)
{
    struct emu *e = c->emu;
    unsigned k;
    (void)i;
    for (k = 0; k < e->cpu_count; k++)
        if (k != c->index && cpu_can_run(e->cpus[k])) {
            c->attention |= CPU_ATTENTION_TIMER;
            break;
        }
    return CPU_OK;
}

static int sys_monitor(struct cpu *c, const struct insn *i)
{
    uint64_t va, v;
    if (c->cpl != 0)
        return cpu_raise(c, EXC_UD);
    if ((uint32_t)c->gpr[GPR_RCX])
        return sys_gp(c);
    if (cpu_linear(c, i->seg, sys_wrap(i, c->gpr[GPR_RAX]), 1, ACCESS_READ, &va) || cpu_load_linear(c, va, 1, &v, ACCESS_READ))
        return CPU_FAULT;
    c->monitor_gpa = va;
    c->monitor_armed = true;
    return CPU_OK;
}

static int sys_mwait(struct cpu *c, const struct insn *i)
{
    (void)i;
    if (c->cpl != 0)
        return cpu_raise(c, EXC_UD);
    if (c->gpr[GPR_RCX] & ~UINT64_C(1))
        return sys_gp(c);
    if (c->monitor_armed && c->emu->cpu_count == 1 && (c->eflags & FLAG_IF)) {
        c->halted = true;
        c->attention |= CPU_ATTENTION_INT;
    }
    c->monitor_armed = false;
    return CPU_OK;
}

/* ---- descriptor tables and system segments ---- */

static bool sys_umip_blocks(const struct cpu *c) { return (c->cr4 & CR4_UMIP) && c->cpl > 0; }

static int sys_store_table(struct cpu *c, const struct insn *i)
{
    const struct dtable *t = i->modrm & 8 ? &c->idtr : &c->gdtr;
    uint8_t b[10];
    if (sys_umip_blocks(c))
        return sys_gp(c);
    st16le(b, (uint16_t)t->limit);
    st64le(b + 2, t->base);
    return cpu_store_bytes(c, i->seg, insn_address(c, i), b, c->mode == MODE_LONG ? 10 : 6);
}

static int sys_load_table(struct cpu *c, const struct insn *i)
{
    struct dtable *t = i->modrm & 8 ? &c->idtr : &c->gdtr;
    uint8_t b[10];
    uint64_t base;
    SYS_PRIVILEGED(c);
    if (cpu_load_bytes(c, i->seg, insn_address(c, i), b, c->mode == MODE_LONG ? 10 : 6))
        return CPU_FAULT;
    base = c->mode == MODE_LONG ? ld64le(b + 2) : ld32le(b + 2);
    if (c->mode == MODE_LONG) {
        if (!cpu_canonical(c, base))
            return sys_gp(c);
    } else if (i->opsize == 2) {
        base &= 0xFFFFFF;
    }
    t->base = base;
    t->limit = ld16le(b);
    return CPU_OK;
}

static int sys_smsw(struct cpu *c, const struct insn *i)
{
    if (sys_umip_blocks(c))
        return sys_gp(c);
    return sys_store_word(c, i, c->cr0);
}

static int sys_sldt(struct cpu *c, const struct insn *i)
{
    if (!sys_protected(c))
        return cpu_raise(c, EXC_UD);
    if (sys_umip_blocks(c))
        return sys_gp(c);
    return sys_store_word(c, i, c->seg[(i->modrm >> 3 & 7) == 0 ? SEG_LDTR : SEG_TR].selector);
}

static int sys_lldt(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    if (!sys_protected(c))
        return cpu_raise(c, EXC_UD);
    SYS_PRIVILEGED(c);
    if (insn_load_rm(c, i, 2, &v))
        return CPU_FAULT;
    return (i->modrm >> 3 & 7) == 2 ? desc_load_ldtr(c, (uint16_t)v, EXC_GP) : desc_load_tr(c, (uint16_t)v);
}

static void sys_set_zf(struct cpu *c, bool zf) { cpu_set_arith_flags(c, (cpu_arith_flags(c) & ~(uint32_t)FLAG_ZF) | (zf ? FLAG_ZF : 0)); }

/* Is the descriptor visible from CPL and RPL? Conforming code always is. */
static bool sys_visible(const struct cpu *c, const struct desc *d)
{
    if (desc_is_code(d) && desc_conforming(d))
        return true;
    return desc_dpl(d) >= c->cpl && desc_dpl(d) >= (d->selector & 3u);
}

static int sys_verr(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    struct desc d;
    int r;
    bool ok = false, write = (i->modrm >> 3 & 7) == 5;
    if (!sys_protected(c))
        return cpu_raise(c, EXC_UD);
    if (insn_load_rm(c, i, 2, &v))
        return CPU_FAULT;
    if (!sel_is_null((uint16_t)v)) {
        r = desc_find(c, (uint16_t)v, &d);
        if (r < 0)
            return CPU_FAULT;
        if (r == 0 && desc_is_segment(&d) && sys_visible(c, &d))
            ok = write ? !desc_is_code(&d) && (desc_type(&d) & SEG_WRITE_READ) : !desc_is_code(&d) || (desc_type(&d) & SEG_WRITE_READ);
    }
    sys_set_zf(c, ok);
    return CPU_OK;
}

static int sys_lar_lsl(struct cpu *c, const struct insn *i)
{
    enum { LAR_TYPES = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12, LAR_TYPES64 = 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12,
           LSL_TYPES = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11, LSL_TYPES64 = 1 << 2 | 1 << 9 | 1 << 11 };
    uint64_t v;
    struct desc d;
    struct seg s;
    int r;
    bool lsl = i->opcode == 3, lma = (c->efer & EFER_LMA) != 0, ok = false;
    unsigned types = lsl ? (lma ? LSL_TYPES64 : LSL_TYPES) : lma ? LAR_TYPES64 : LAR_TYPES;
    if (!sys_protected(c))
        return cpu_raise(c, EXC_UD);
    if (insn_load_rm(c, i, 2, &v))
        return CPU_FAULT;
    if (!sel_is_null((uint16_t)v)) {
        r = desc_find(c, (uint16_t)v, &d);
        if (r < 0)
            return CPU_FAULT;
        if (r == 0 && sys_visible(c, &d) && (desc_is_segment(&d) || ((types >> desc_type(&d)) & 1))) {
            ok = true;
            desc_to_seg(&d, (uint16_t)v, &s);
            cpu_put(c, i->reg, lsl ? s.limit : d.high & (i->opsize == 2 ? 0xFF00u : 0x00FFFF00u), i->opsize);
        }
    }
    sys_set_zf(c, ok);
    return CPU_OK;
}

static int sys_arpl(struct cpu *c, const struct insn *i)
{
    uint64_t dst, src = c->gpr[i->reg];
    if (!sys_protected(c))
        return cpu_raise(c, EXC_UD);
    if (insn_load_rm(c, i, 2, &dst))
        return CPU_FAULT;
    if ((dst & 3) < (src & 3)) {
        if (insn_store_rm(c, i, 2, (dst & 0xFFFC) | (src & 3)))
            return CPU_FAULT;
        sys_set_zf(c, true);
    } else {
        sys_set_zf(c, false);
    }
    return CPU_OK;
}

/* ---- control registers ---- */

static int sys_set_cr0(struct cpu *c, uint64_t v)
{
    const uint64_t known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
    uint64_t changed;
    if ((v >> 32) || ((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD)))
        return sys_gp(c);
    v = (v & known) | CR0_ET;
    changed = v ^ c->cr0;
    if ((changed & CR0_PG) && (v & CR0_PG)) {
        if (c->efer & EFER_LME) {
            if (!(c->cr4 & CR4_PAE) || (c->seg[SEG_CS].attr & SEG_L) || !(c->seg[SEG_TR].attr & 8))
                return sys_gp(c);
        }
    }
    if ((changed & CR0_PG) && !(v & CR0_PG)) {
        if ((c->cr4 & CR4_PCIDE) || c->mode == MODE_LONG)
            return sys_gp(c);
    }
    if ((v & CR0_PG) && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LME) && (changed & (CR0_PG | CR0_CD | CR0_NW)) && mmu_load_pdptes(c, c->cr3))
        return CPU_FAULT;
    if (changed & CR0_PG) {
        if ((v & CR0_PG) && (c->efer & EFER_LME))
            c->efer |= EFER_LMA;
        else
            c->efer &= ~(uint64_t)EFER_LMA;
    }
    c->cr0 = v;
    if (changed & (CR0_PG | CR0_PE | CR0_WP))
        tlb_flush_all(c);
    cpu_update_mode(c);
    return CPU_OK;
}

static int sys_set_cr3(struct cpu *c, uint64_t v)
{
    bool keep = false;
    if (c->efer & EFER_LMA) {
        if (c->cr4 & CR4_PCIDE) {
            keep = v >> 63;
            v &= ~(UINT64_C(1) << 63);
        }
        if (v >> c->phys_bits)
            return sys_gp(c);
    } else {
        v &= 0xFFFFFFFFu;
        if ((c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE) && mmu_load_pdptes(c, v))
            return CPU_FAULT;
    }
    tlb_set_cr3(c, v, keep);
    return CPU_OK;
}

static uint64_t sys_cr4_allowed(const struct cpu *c)
{
    uint64_t m = 0;
    if (cpu_has(c, CPU_VME))
        m |= CR4_VME | CR4_PVI;
    if (cpu_has(c, CPU_TSC))
        m |= CR4_TSD;
    if (cpu_has(c, CPU_DE))
        m |= CR4_DE;
    if (cpu_has(c, CPU_PSE))
        m |= CR4_PSE;
    if (cpu_has(c, CPU_PAE))
        m |= CR4_PAE;
    if (cpu_has(c, CPU_MCE))
        m |= CR4_MCE;
    if (cpu_has(c, CPU_PGE))
        m |= CR4_PGE;
    if (cpu_has(c, CPU_MMX))
        m |= CR4_PCE; /* RDPMC came with the later Pentiums */
    if (cpu_has(c, CPU_FXSR))
        m |= CR4_OSFXSR;
    if (cpu_has(c, CPU_SSE))
        m |= CR4_OSXMMEXCPT;
    if (cpu_has(c, CPU_UMIP))
        m |= CR4_UMIP;
    if (cpu_has(c, CPU_LA57))
        m |= CR4_LA57;
    if (cpu_has(c, CPU_FSGSBASE))
        m |= CR4_FSGSBASE;
    if (cpu_has(c, CPU_PCID))
        m |= CR4_PCIDE;
    if (cpu_has(c, CPU_XSAVE))
        m |= CR4_OSXSAVE;
    if (cpu_has(c, CPU_SMEP))
        m |= CR4_SMEP;
    if (cpu_has(c, CPU_SMAP))
        m |= CR4_SMAP;
    if (cpu_has(c, CPU_PKU))
        m |= CR4_PKE;
    return m;
}

static int sys_set_cr4(struct cpu *c, uint64_t v)
{
    uint64_t changed = v ^ c->cr4;
    bool lma = (c->efer & EFER_LMA) != 0;
    if (v & ~sys_cr4_allowed(c))
        return sys_gp(c);
    if (lma && (!(v & CR4_PAE) || (changed & CR4_LA57)))
        return sys_gp(c);
    if ((changed & CR4_PCIDE) && (v & CR4_PCIDE) && (!lma || (c->cr3 & 0xFFF)))
        return sys_gp(c);
    if ((c->cr0 & CR0_PG) && !lma && (v & CR4_PAE) && (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP))) {
        uint64_t old = c->cr4;
        int r;
        c->cr4 = v;
        r = mmu_load_pdptes(c, c->cr3);
        c->cr4 = old;
        if (r)
            return CPU_FAULT;
    }
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_LA57 | CR4_DE)) {
        c->cr4 = v;
        tlb_flush_all(c);
    }
    c->cr4 = v;
    cpu_update_mode(c);
    return CPU_OK;
}

static int sys_mov_from_cr(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    if (i->reg == 1 || (i->reg > 4 && i->reg != 8))
        return cpu_raise(c, EXC_UD);
    SYS_PRIVILEGED(c);
    switch (i->reg) {
    case 0: v = c->cr0; break;
    case 2: v = c->cr2; break;
    case 3: v = c->cr3; break;
    case 4: v = c->cr4; break;
    default: v = lapic_get_tpr(c); break;
    }
    c->gpr[i->rm] = c->mode == MODE_LONG ? v : (uint32_t)v;
    return CPU_OK;
}

static int sys_mov_to_cr(struct cpu *c, const struct insn *i)
{
    uint64_t v = c->mode == MODE_LONG ? c->gpr[i->rm] : (uint32_t)c->gpr[i->rm];
    if (i->reg == 1 || (i->reg > 4 && i->reg != 8))
        return cpu_raise(c, EXC_UD);
    SYS_PRIVILEGED(c);
    c->attention |= CPU_ATTENTION_INT;
    switch (i->reg) {
    case 0: return sys_set_cr0(c, v);
    case 2: c->cr2 = v; return CPU_OK;
    case 3: return sys_set_cr3(c, v);
    case 4: return sys_set_cr4(c, v);
    default:
        if (v > 15)
            return sys_gp(c);
        lapic_set_tpr(c, v);
        return CPU_OK;
    }
}

static int sys_lmsw(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    SYS_PRIVILEGED(c);
    if (insn_load_rm(c, i, 2, &v))
        return CPU_FAULT;
    v = (c->cr0 & ~UINT64_C(14)) | (v & 15); /* PE can be set, not cleared */
    return sys_set_cr0(c, v);
}

static int sys_clts(struct cpu *c, const struct insn *i)
{
    (void)i;
    SYS_PRIVILEGED(c);
    c->cr0 &= ~(uint64_t)CR0_TS;
    cpu_update_mode(c);
    return CPU_OK;
}

/* ---- debug registers ---- */

static int sys_mov_dr_check(struct cpu *c, const struct insn *i, unsigned *n)
{
    *n = i->reg;
    if (*n > 7 || ((*n == 4 || *n == 5) && (c->cr4 & CR4_DE)))
        return cpu_raise(c, EXC_UD);
    SYS_PRIVILEGED(c);
    if (c->dr[7] & 0x2000) { /* GD */
        c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | 0x2000;
        return cpu_raise(c, EXC_DB);
    }
    if (*n == 4 || *n == 5)
        *n += 2;
    return CPU_OK;
}

static int sys_mov_from_dr(struct cpu *c, const struct insn *i)
{
    unsigned n;
    if (sys_mov_dr_check(c, i, &n))
        return CPU_FAULT;
    c->gpr[i->rm] = c->mode == MODE_LONG ? c->dr[n] : (uint32_t)c->dr[n];
    return CPU_OK;
}

static int sys_mov_to_dr(struct cpu *c, const struct insn *i)
{
    unsigned n;
    uint64_t v = c->mode == MODE_LONG ? c->gpr[i->rm] : (uint32_t)c->gpr[i->rm];
    if (sys_mov_dr_check(c, i, &n))
        return CPU_FAULT;
    if (n >= 6 && (v >> 32))
        return sys_gp(c);
    if (n == 6)
        v = (v & 0xE00F) | 0xFFFF0FF0u;
    else if (n == 7)
        v = (v & 0xFFFF23FFu) | 0x400;
    c->dr[n] = v;
    if (n == 7 || (n < 4 && (c->dr[7] & 0xFF))) /* pages with data breakpoints leave the TLB, others may come back */
        tlb_flush_all(c);
    cpu_update_mode(c);
    return CPU_OK;
}

/* ---- TLB and caches ---- */

static int sys_invlpg(struct cpu *c, const struct insn *i)
{
    uint64_t a = insn_address(c, i);
    SYS_PRIVILEGED(c);
    if (c->mode == MODE_LONG)
        a += i->seg == SEG_FS || i->seg == SEG_GS ? c->seg[i->seg].base : 0;
    else
        a = (a + c->seg[i->seg].base) & 0xFFFFFFFFu;
    tlb_flush_page(c, a);
    return CPU_OK;
}

static int sys_invpcid(struct cpu *c, const struct insn *i)
{
    uint8_t b[16];
    uint64_t type = c->mode == MODE_LONG ? c->gpr[i->reg] : (uint32_t)c->gpr[i->reg], pcid, va;
    SYS_PRIVILEGED(c);
    if (cpu_load_bytes(c, i->seg, insn_address(c, i), b, 16))
        return CPU_FAULT;
    pcid = ld64le(b);
    va = ld64le(b + 8);
    if (type > 3 || pcid > 0xFFF || (type < 2 && pcid && !(c->cr4 & CR4_PCIDE)) || (type == 0 && !cpu_canonical(c, va)))
        return sys_gp(c);
    switch (type) {
    case 0:
        if (!(c->cr4 & CR4_PCIDE) || pcid == (c->cr3 & 0xFFF))
            tlb_flush_page(c, va);
        else
            tlb_flush_pcid(c, (unsigned)pcid); /* more than asked for, which is allowed */
        break;
    case 1: tlb_flush_pcid(c, (unsigned)pcid); break;
    case 2: tlb_flush_all(c); break;
    default: tlb_flush_nonglobal(c); break;
    }
    return CPU_OK;
}

static int sys_wbinvd(struct cpu *c, const struct insn *i)
{
    (void)i;
    SYS_PRIVILEGED(c);
    return CPU_OK;
}

static int sys_clflush(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    return cpu_load(c, i->seg, insn_address(c, i), 1, &v); /* faults as a byte load does */
}

static int sys_nothing(struct cpu *c, const struct insn *i)
{
    (void)c;
    (void)i;
    return CPU_OK;
}

/* ---- time, identification, randomness ---- */

EMU_PRIV uint64_t cpu_tsc_hz(void) { return (uint64_t)NS_PER_SEC; }
EMU_PRIV uint64_t cpu_tsc(struct cpu *c) { return (uint64_t)emu_now_ns(c->emu) + (uint64_t)c->tsc_offset; }
EMU_PRIV int64_t cpu_tsc_to_ns(struct cpu *c, uint64_t tsc)
{
    uint64_t ns = tsc - (uint64_t)c->tsc_offset;
    return ns > (uint64_t)INT64_MAX ? (tsc < (uint64_t)c->tsc_offset ? 0 : INT64_MAX) : (int64_t)ns;
}

static void sys_put_edx_eax(struct cpu *c, uint64_t v)
{
    c->gpr[GPR_RAX] = (uint32_t)v;
    c->gpr[GPR_RDX] = v >> 32;
}

static int sys_rdtsc(struct cpu *c, const struct insn *i)
{
    if ((c->cr4 & CR4_TSD) && c->cpl > 0)
        return sys_gp(c);
    sys_put_edx_eax(c, cpu_tsc(c));
    if (i->has_modrm) /* RDTSCP */
        c->gpr[GPR_RCX] = (uint32_t)c->tsc_aux;
    return CPU_OK;
}

static int sys_rdpmc(struct cpu *c, const struct insn *i)
{
    (void)i;
    return sys_gp(c); /* CPUID leaf 0xA says that there are no counters */
}

static int sys_cpuid(struct cpu *c, const struct insn *i)
{
    uint32_t r[4];
    (void)i;
    cpu_cpuid(c, (uint32_t)c->gpr[GPR_RAX], (uint32_t)c->gpr[GPR_RCX], r);
    c->gpr[GPR_RAX] = r[0];
    c->gpr[GPR_RBX] = r[1];
    c->gpr[GPR_RCX] = r[2];
    c->gpr[GPR_RDX] = r[3];
    return CPU_OK;
}

static uint64_t sys_random(struct cpu *c)
{
    uint64_t a, b;
    if (!(c->rng_state[0] | c->rng_state[1])) { /* SplitMix-like spread of the machine's seed, once */
        uint64_t z = c->emu->config.seed + (c->index + 1) * UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        c->rng_state[0] = z ^ (z >> 27);
        c->rng_state[1] = (z ^ (z >> 31)) * UINT64_C(0x94D049BB133111EB) | 1;
    }
    a = c->rng_state[0]; /* xorshift128+ */
    b = c->rng_state[1];
    c->rng_state[0] = b;
    a ^= a << 23;
    c->rng_state[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return c->rng_state[1] + b;
}

static int sys_rdrand(struct cpu *c, const struct insn *i)
{
    cpu_put(c, i->rm, sys_random(c), i->opsize);
    cpu_set_arith_flags(c, FLAG_CF);
    return CPU_OK;
}

static int sys_rdpid(struct cpu *c, const struct insn *i)
{
    c->gpr[i->rm] = (uint32_t)c->tsc_aux;
    return CPU_OK;
}

/* ---- FS, GS, protection keys, MSRs ---- */

static int sys_fsgsbase(struct cpu *c, const struct insn *i)
{
    unsigned op = (i->modrm >> 3) & 7, s = op & 1 ? SEG_GS : SEG_FS;
    uint64_t v;
    if (!(c->cr4 & CR4_FSGSBASE))
        return cpu_raise(c, EXC_UD);
    if (op < 2) {
        cpu_put(c, i->rm, c->seg[s].base, i->opsize == 8 ? 8 : 4);
        return CPU_OK;
    }
    v = cpu_get(c, i->rm, i->opsize == 8 ? 8 : 4);
    if (!cpu_canonical(c, v))
        return sys_gp(c);
    c->seg[s].base = v;
    cpu_update_mode(c);
    return CPU_OK;
}

static int sys_swapgs(struct cpu *c, const struct insn *i)
{
    uint64_t base = c->seg[SEG_GS].base;
    (void)i;
    SYS_PRIVILEGED(c);
    c->seg[SEG_GS].base = c->kernel_gs_base;
    c->kernel_gs_base = base;
    c->seg_base[SEG_GS] = c->seg[SEG_GS].base;
    return CPU_OK;
}

static int sys_pkru(struct cpu *c, const struct insn *i)
{
    bool write = (i->modrm & 7) == 7;
    if (!(c->cr4 & CR4_PKE))
        return cpu_raise(c, EXC_UD);
    if ((uint32_t)c->gpr[GPR_RCX] || (write && (uint32_t)c->gpr[GPR_RDX]))
        return sys_gp(c);
    if (!write) {
        sys_put_edx_eax(c, c->pkru);
    } else if (c->pkru != (uint32_t)c->gpr[GPR_RAX]) {
        c->pkru = (uint32_t)c->gpr[GPR_RAX];
        tlb_flush_all(c); /* rights of user pages are in the entries */
    }
    return CPU_OK;
}

static int sys_rdmsr(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    (void)i;
    SYS_PRIVILEGED(c);
    if (msr_read(c, (uint32_t)c->gpr[GPR_RCX], &v))
        return CPU_FAULT;
    sys_put_edx_eax(c, v);
    return CPU_OK;
}

static int sys_wrmsr(struct cpu *c, const struct insn *i)
{
    (void)i;
    SYS_PRIVILEGED(c);
    c->attention |= CPU_ATTENTION_INT;
    return msr_write(c, (uint32_t)c->gpr[GPR_RCX], (uint32_t)c->gpr[GPR_RAX] | (c->gpr[GPR_RDX] << 32));
}

/* ---- instructions of the 8086 and 80186 that are rare today ---- */

static int sys_pusha(struct cpu *c, const struct insn *i)
{
    uint64_t sp = c->gpr[GPR_RSP], mask = seg_stack_mask(c, &c->seg[SEG_SS]), at;
    unsigned k;
    if (cpu_check_store(c, SEG_SS, (sp - i->opsize) & mask, i->opsize) || cpu_check_store(c, SEG_SS, (sp - 8u * i->opsize) & mask, i->opsize))
        return CPU_FAULT;
    for (k = 0; k < 8; k++) {
        at = (sp - (k + 1) * i->opsize) & mask;
        if (cpu_store(c, SEG_SS, at, i->opsize, cpu_get(c, k, i->opsize)))
            return CPU_FAULT;
    }
    stack_set_rsp(c, &c->seg[SEG_SS], sp - 8u * i->opsize);
    return CPU_OK;
}

static int sys_popa(struct cpu *c, const struct insn *i)
{
    uint64_t sp = c->gpr[GPR_RSP], mask = seg_stack_mask(c, &c->seg[SEG_SS]), v[8];
    unsigned k;
    for (k = 0; k < 8; k++)
        if (cpu_load(c, SEG_SS, (sp + k * i->opsize) & mask, i->opsize, &v[7 - k]))
            return CPU_FAULT;
    for (k = 0; k < 8; k++)
        if (k != GPR_RSP)
            cpu_put(c, k, v[k], i->opsize);
    stack_set_rsp(c, &c->seg[SEG_SS], sp + 8u * i->opsize);
    return CPU_OK;
}

static int sys_bound(struct cpu *c, const struct insn *i)
{
    uint64_t a = insn_address(c, i), low, high;
    unsigned bits = i->opsize * 8u;
    int64_t index = sext64(c->gpr[i->reg], bits);
    if (cpu_load(c, i->seg, a, i->opsize, &low))
        return CPU_FAULT;
    if (index < sext64(low, bits)) /* before the upper bound is read (tests/cpu_diff.c) */
        return cpu_raise(c, EXC_BR);
    if (cpu_load(c, i->seg, sys_wrap(i, a + i->opsize), i->opsize, &high))
        return CPU_FAULT;
    return index > sext64(high, bits) ? cpu_raise(c, EXC_BR) : CPU_OK;
}

static int sys_xlat(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    if (cpu_load(c, i->seg, sys_wrap(i, c->gpr[GPR_RBX] + (c->gpr[GPR_RAX] & 0xFF)), 1, &v))
        return CPU_FAULT;
    cpu_put8(c, GPR_RAX, false, (uint8_t)v);
    return CPU_OK;
}

static int sys_enter(struct cpu *c, const struct insn *i)
{
    uint64_t rsp = c->gpr[GPR_RSP], frame, v, mask = seg_stack_mask(c, &c->seg[SEG_SS]), bp = c->gpr[GPR_RBP];
    unsigned level = i->imm2 & 31, size = i->opsize, k;
    if (cpu_push(c, cpu_get(c, GPR_RBP, size), size))
        return CPU_FAULT;
    frame = c->gpr[GPR_RSP];
    for (k = 1; k < level; k++) {
        bp -= size;
        if (cpu_load(c, SEG_SS, bp & mask, size, &v) || cpu_push(c, v, size))
            goto fault;
    }
    if (level && cpu_push(c, frame, size))
        goto fault;
    stack_set_rsp(c, &c->seg[SEG_SS], c->gpr[GPR_RSP] - (i->imm & 0xFFFF));
    if (cpu_check_store(c, SEG_SS, c->gpr[GPR_RSP] & mask, size)) /* SDM 2A ENTER: the new top must be writable */
        goto fault;
    cpu_put(c, GPR_RBP, frame, size);
    return CPU_OK;
fault:
    c->gpr[GPR_RSP] = rsp;
    return CPU_FAULT;
}

static uint32_t sys_szp(uint8_t r)
{
    uint8_t p = r;
    p = (uint8_t)(p ^ (p >> 4));
    p = (uint8_t)(p ^ (p >> 2));
    p = (uint8_t)(p ^ (p >> 1));
    return (r & 0x80 ? FLAG_SF : 0) | (r == 0 ? FLAG_ZF : 0) | (p & 1 ? 0 : FLAG_PF);
}

static int sys_daa(struct cpu *c, const struct insn *i)
{
    bool subtract = i->opcode == 0x2F;
    uint32_t f = cpu_arith_flags(c), out = 0;
    uint8_t al = (uint8_t)c->gpr[GPR_RAX], old = al;
    if ((al & 15) > 9 || (f & FLAG_AF)) {
        if (subtract ? al < 6 : al > 0xF9)
            out |= FLAG_CF;
        out |= FLAG_AF | (f & FLAG_CF);
        al = (uint8_t)(subtract ? al - 6 : al + 6);
    }
    if (old > 0x99 || (f & FLAG_CF)) {
        al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
        out |= FLAG_CF;
    } else if (!subtract) {
        out &= ~(uint32_t)FLAG_CF;
    }
    cpu_put8(c, GPR_RAX, false, al);
    cpu_set_arith_flags(c, out | sys_szp(al));
    return CPU_OK;
}

static int sys_aaa(struct cpu *c, const struct insn *i)
{
    bool subtract = i->opcode == 0x3F;
    uint32_t out = 0;
    uint16_t ax = (uint16_t)c->gpr[GPR_RAX];
    if ((ax & 15) > 9 || (cpu_arith_flags(c) & FLAG_AF)) {
        ax = (uint16_t)(subtract ? ax - 0x106 : ax + 0x106);
        out = FLAG_AF | FLAG_CF;
    }
    ax &= 0xFF0F;
    cpu_put16(c, GPR_RAX, ax);
    cpu_set_arith_flags(c, out | sys_szp((uint8_t)ax));
    return CPU_OK;
}

static int sys_aam(struct cpu *c, const struct insn *i)
{
    unsigned base = (unsigned)i->imm & 0xFF, al = (unsigned)c->gpr[GPR_RAX] & 0xFF;
    if (!base)
        return cpu_raise(c, EXC_DE);
    cpu_put16(c, GPR_RAX, (uint16_t)((al / base) << 8 | (al % base)));
    cpu_set_arith_flags(c, sys_szp((uint8_t)(al % base)));
    return CPU_OK;
}

static int sys_aad(struct cpu *c, const struct insn *i)
{
    unsigned al = (unsigned)c->gpr[GPR_RAX] & 0xFF, ah = (unsigned)(c->gpr[GPR_RAX] >> 8) & 0xFF;
    unsigned product = ah * ((unsigned)i->imm & 0xFF) & 0xFF, sum = al + product;
    /* CF, OF, AF are undefined; hardware gives those of the addition (tests/cpu_diff.c) */
    uint32_t flags = sys_szp((uint8_t)sum) | (sum >> 8 ? FLAG_CF : 0u) | ((al ^ product ^ sum) & FLAG_AF) |
                     (~(al ^ product) & (al ^ sum) & 0x80 ? FLAG_OF : 0u);
    cpu_put16(c, GPR_RAX, (uint16_t)(sum & 0xFF));
    cpu_set_arith_flags(c, flags);
    return CPU_OK;
}

static int sys_salc(struct cpu *c, const struct insn *i)
{
    (void)i;
    cpu_put8(c, GPR_RAX, false, cpu_arith_flags(c) & FLAG_CF ? 0xFF : 0);
    return CPU_OK;
}

/* ---- rows ---- */

#define SYS_ROW(enc, name, o1, o2, needs, attr, fr, fw, fn) ROW_CALL(enc, name, o1, o2, OPND_NONE, CPU_##needs, attr, fr, fw, fn)
#define SYS_ALL FLAGS_ARITH
EMU_PRIV const struct insn_row *cpu_rows_system(void)
{
    static const struct insn_row rows[] = {
        /* segment registers */
        SYS_ROW(ENC(0x06) | NOT64, "push", OPND_ES, 0, ALWAYS, 0, 0, 0, sys_push_seg),
        SYS_ROW(ENC(0x07) | NOT64, "pop", OPND_ES, 0, ALWAYS, ROW_ENDS, 0, 0, sys_pop_seg),
        SYS_ROW(ENC(0x0E) | NOT64, "push", OPND_CS, 0, ALWAYS, 0, 0, 0, sys_push_seg),
        SYS_ROW(ENC(0x16) | NOT64, "push", OPND_SS, 0, ALWAYS, 0, 0, 0, sys_push_seg),
        SYS_ROW(ENC(0x17) | NOT64, "pop", OPND_SS, 0, ALWAYS, ROW_ENDS, 0, 0, sys_pop_seg),
        SYS_ROW(ENC(0x1E) | NOT64, "push", OPND_DS, 0, ALWAYS, 0, 0, 0, sys_push_seg),
        SYS_ROW(ENC(0x1F) | NOT64, "pop", OPND_DS, 0, ALWAYS, ROW_ENDS, 0, 0, sys_pop_seg),
        SYS_ROW(ENC0F(0xA0), "push", OPND_FS, 0, ALWAYS, ROW_DEF64, 0, 0, sys_push_seg),
        SYS_ROW(ENC0F(0xA1), "pop", OPND_FS, 0, ALWAYS, ROW_DEF64 | ROW_ENDS, 0, 0, sys_pop_seg),
        SYS_ROW(ENC0F(0xA8), "push", OPND_GS, 0, ALWAYS, ROW_DEF64, 0, 0, sys_push_seg),
        SYS_ROW(ENC0F(0xA9), "pop", OPND_GS, 0, ALWAYS, ROW_DEF64 | ROW_ENDS, 0, 0, sys_pop_seg),
        SYS_ROW(ENC(0x8C), "mov", OPND_Ev, OPND_Sw, ALWAYS, 0, 0, 0, sys_mov_from_seg),
        SYS_ROW(ENC(0x8E), "mov", OPND_Sw, OPND_Ew, ALWAYS, ROW_ENDS, 0, 0, sys_mov_to_seg),
        SYS_ROW(ENC(0xC4) | NOT64 | MOD_MEM, "les", OPND_Gv, OPND_Mp, ALWAYS, ROW_ENDS, 0, 0, sys_lds),
        SYS_ROW(ENC(0xC5) | NOT64 | MOD_MEM, "lds", OPND_Gv, OPND_Mp, ALWAYS, ROW_ENDS, 0, 0, sys_lds),
        SYS_ROW(ENC0F(0xB2) | MOD_MEM, "lss", OPND_Gv, OPND_Mp, ALWAYS, ROW_ENDS, 0, 0, sys_lds),
        SYS_ROW(ENC0F(0xB4) | MOD_MEM, "lfs", OPND_Gv, OPND_Mp, ALWAYS, ROW_ENDS, 0, 0, sys_lds),
        SYS_ROW(ENC0F(0xB5) | MOD_MEM, "lgs", OPND_Gv, OPND_Mp, ALWAYS, ROW_ENDS, 0, 0, sys_lds),
        /* far transfers */
        SYS_ROW(ENC(0x9A) | NOT64, "lcall", OPND_Ap, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_far_imm),
        SYS_ROW(ENC(0xEA) | NOT64, "ljmp", OPND_Ap, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_far_imm),
        SYS_ROW(ENC(0xFF) | SLASH(3) | MOD_MEM, "lcall", OPND_Mp, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_far_mem),
        SYS_ROW(ENC(0xFF) | SLASH(5) | MOD_MEM, "ljmp", OPND_Mp, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_far_mem),
        SYS_ROW(ENC(0xCA), "lret", OPND_Iw, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_retf),
        SYS_ROW(ENC(0xCB), "lret", 0, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_retf),
        SYS_ROW(ENC(0xCC), "int3", 0, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_int3),
        SYS_ROW(ENC(0xCD), "int", OPND_Ib, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_int),
        SYS_ROW(ENC(0xCE) | NOT64, "into", 0, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_into),
        SYS_ROW(ENC(0xCF), "iret", 0, 0, ALWAYS, ROW_ENDS, SYS_ALL, SYS_ALL, sys_iret),
        SYS_ROW(ENC(0xF1), "int1", 0, 0, ALWAYS, ROW_ENDS, SYS_ALL, 0, sys_int1),
        SYS_ROW(ENC0F(0x05), "syscall", 0, 0, SYSCALL, ROW_ENDS, SYS_ALL, SYS_ALL, sys_syscall),
        SYS_ROW(ENC0F(0x07), "sysret", 0, 0, SYSCALL, ROW_ENDS, SYS_ALL, SYS_ALL, sys_sysret),
        SYS_ROW(ENC0F(0x34), "sysenter", 0, 0, SEP, ROW_ENDS, SYS_ALL, SYS_ALL, sys_sysenter),
        SYS_ROW(ENC0F(0x35), "sysexit", 0, 0, SEP, ROW_ENDS, SYS_ALL, SYS_ALL, sys_sysexit),
        /* flags and I/O */
        SYS_ROW(ENC(0x9C), "pushf", 0, 0, ALWAYS, ROW_DEF64, SYS_ALL, 0, sys_pushf),
        SYS_ROW(ENC(0x9D), "popf", 0, 0, ALWAYS, ROW_DEF64 | ROW_ENDS, SYS_ALL, SYS_ALL, sys_popf),
        SYS_ROW(ENC(0xFA), "cli", 0, 0, ALWAYS, ROW_ENDS, 0, 0, sys_cli),
        SYS_ROW(ENC(0xFB), "sti", 0, 0, ALWAYS, ROW_ENDS, 0, 0, sys_sti),
        SYS_ROW(ENC(0xE4), "in", OPND_AL, OPND_Ib, ALWAYS, ROW_ENDS, 0, 0, sys_in),
        SYS_ROW(ENC(0xE5), "in", OPND_eAX, OPND_Ib, ALWAYS, ROW_ENDS, 0, 0, sys_in),
        SYS_ROW(ENC(0xE6), "out", OPND_Ib, OPND_AL, ALWAYS, ROW_ENDS, 0, 0, sys_out),
        SYS_ROW(ENC(0xE7), "out", OPND_Ib, OPND_eAX, ALWAYS, ROW_ENDS, 0, 0, sys_out),
        SYS_ROW(ENC(0xEC), "in", OPND_AL, OPND_DX, ALWAYS, ROW_ENDS, 0, 0, sys_in),
        SYS_ROW(ENC(0xED), "in", OPND_eAX, OPND_DX, ALWAYS, ROW_ENDS, 0, 0, sys_in),
        SYS_ROW(ENC(0xEE), "out", OPND_DX, OPND_AL, ALWAYS, ROW_ENDS, 0, 0, sys_out),
        SYS_ROW(ENC(0xEF), "out", OPND_DX, OPND_eAX, ALWAYS, ROW_ENDS, 0, 0, sys_out),
        SYS_ROW(ENC(0xF4), "hlt", 0, 0, ALWAYS, ROW_ENDS, 0, 0, sys_hlt),
        /* 0F 00: system segments */
        SYS_ROW(ENC0F(0x00) | SLASH(0), "sldt", OPND_Ev, 0, ALWAYS, 0, 0, 0, sys_sldt),
        SYS_ROW(ENC0F(0x00) | SLASH(1), "str", OPND_Ev, 0, ALWAYS, 0, 0, 0, sys_sldt),
        SYS_ROW(ENC0F(0x00) | SLASH(2), "lldt", OPND_Ew, 0, ALWAYS, ROW_ENDS, 0, 0, sys_lldt),
        SYS_ROW(ENC0F(0x00) | SLASH(3), "ltr", OPND_Ew, 0, ALWAYS, ROW_ENDS, 0, 0, sys_lldt),
        SYS_ROW(ENC0F(0x00) | SLASH(4), "verr", OPND_Ew, 0, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_verr),
        SYS_ROW(ENC0F(0x00) | SLASH(5), "verw", OPND_Ew, 0, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_verr),
        SYS_ROW(ENC0F(0x02), "lar", OPND_Gv, OPND_Ew, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_lar_lsl),
        SYS_ROW(ENC0F(0x03), "lsl", OPND_Gv, OPND_Ew, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_lar_lsl),
        SYS_ROW(ENC(0x63) | NOT64, "arpl", OPND_Ew, OPND_Gw, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_arpl),
        /* 0F 01 */
        SYS_ROW(ENC0F(0x01) | SLASH(0) | MOD_MEM, "sgdt", OPND_Ms, 0, ALWAYS, 0, 0, 0, sys_store_table),
        SYS_ROW(ENC0F(0x01) | SLASH(1) | MOD_MEM, "sidt", OPND_Ms, 0, ALWAYS, 0, 0, 0, sys_store_table),
        SYS_ROW(ENC0F(0x01) | SLASH(2) | MOD_MEM, "lgdt", OPND_Ms, 0, ALWAYS, ROW_ENDS, 0, 0, sys_load_table),
        SYS_ROW(ENC0F(0x01) | SLASH(3) | MOD_MEM, "lidt", OPND_Ms, 0, ALWAYS, ROW_ENDS, 0, 0, sys_load_table),
        SYS_ROW(ENC0F(0x01) | SLASH(4), "smsw", OPND_Ev, 0, ALWAYS, 0, 0, 0, sys_smsw),
        SYS_ROW(ENC0F(0x01) | SLASH(6), "lmsw", OPND_Ew, 0, ALWAYS, ROW_ENDS, 0, 0, sys_lmsw),
        SYS_ROW(ENC0F(0x01) | SLASH(7) | MOD_MEM, "invlpg", OPND_M, 0, ALWAYS, ROW_ENDS, 0, 0, sys_invlpg),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(1) | RM(0), "monitor", 0, 0, MONITOR, 0, 0, 0, sys_monitor),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(1) | RM(1), "mwait", 0, 0, MONITOR, ROW_ENDS, 0, 0, sys_mwait),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(1) | RM(2), "clac", 0, 0, SMAP, ROW_ENDS, 0, 0, sys_clac),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(1) | RM(3), "stac", 0, 0, SMAP, ROW_ENDS, 0, 0, sys_clac),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(2) | RM(0), "xgetbv", 0, 0, XSAVE, 0, 0, 0, xsave_xgetbv),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(2) | RM(1), "xsetbv", 0, 0, XSAVE, ROW_ENDS, 0, 0, xsave_xsetbv),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(5) | RM(6), "rdpkru", 0, 0, PKU, 0, 0, 0, sys_pkru),
        SYS_ROW(ENC0F(0x01) | PFX_NP | SLASH(5) | RM(7), "wrpkru", 0, 0, PKU, ROW_ENDS, 0, 0, sys_pkru),
        SYS_ROW(ENC0F(0x01) | SLASH(7) | RM(0) | MODE64, "swapgs", 0, 0, LM, 0, 0, 0, sys_swapgs),
        SYS_ROW(ENC0F(0x01) | SLASH(7) | RM(1), "rdtscp", 0, 0, RDTSCP, 0, 0, 0, sys_rdtsc),
        /* control and debug registers, caches, identification */
        SYS_ROW(ENC0F(0x06), "clts", 0, 0, ALWAYS, ROW_ENDS, 0, 0, sys_clts),
        SYS_ROW(ENC0F(0x08), "invd", 0, 0, ALWAYS, 0, 0, 0, sys_wbinvd),
        SYS_ROW(ENC0F(0x09), "wbinvd", 0, 0, ALWAYS, 0, 0, 0, sys_wbinvd),
        SYS_ROW(ENC0F(0x20), "mov", OPND_Ry, OPND_Cd, ALWAYS, ROW_FORCE64, 0, 0, sys_mov_from_cr),
        SYS_ROW(ENC0F(0x21), "mov", OPND_Ry, OPND_Dd, ALWAYS, ROW_FORCE64, 0, 0, sys_mov_from_dr),
        SYS_ROW(ENC0F(0x22), "mov", OPND_Cd, OPND_Ry, ALWAYS, ROW_FORCE64 | ROW_ENDS, 0, 0, sys_mov_to_cr),
        SYS_ROW(ENC0F(0x23), "mov", OPND_Dd, OPND_Ry, ALWAYS, ROW_FORCE64 | ROW_ENDS, 0, 0, sys_mov_to_dr),
        SYS_ROW(ENC0F(0x30), "wrmsr", 0, 0, MSR, ROW_ENDS, 0, 0, sys_wrmsr),
        SYS_ROW(ENC0F(0x31), "rdtsc", 0, 0, TSC, 0, 0, 0, sys_rdtsc),
        SYS_ROW(ENC0F(0x32), "rdmsr", 0, 0, MSR, 0, 0, 0, sys_rdmsr),
        SYS_ROW(ENC0F(0x33), "rdpmc", 0, 0, MMX, 0, 0, 0, sys_rdpmc),
        SYS_ROW(ENC0F(0xA2), "cpuid", 0, 0, ALWAYS, 0, 0, 0, sys_cpuid),
        /* 0F AE */
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(0) | MOD_MEM, "fxsave", OPND_M, 0, FXSR, ROW_WRITES_MEM, 0, 0, xsave_fxsave),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(1) | MOD_MEM, "fxrstor", OPND_M, 0, FXSR, 0, 0, 0, xsave_fxrstor),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(4) | MOD_MEM, "xsave", OPND_M, 0, XSAVE, ROW_WRITES_MEM, 0, 0, xsave_xsave),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(5) | MOD_MEM, "xrstor", OPND_M, 0, XSAVE, ROW_ENDS, 0, 0, xsave_xrstor),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(6) | MOD_MEM, "xsaveopt", OPND_M, 0, XSAVEOPT, ROW_WRITES_MEM, 0, 0, xsave_xsaveopt),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(7) | MOD_MEM, "clflush", OPND_Mb, 0, CLFLUSH, 0, 0, 0, sys_clflush),
        SYS_ROW(ENC0F(0xAE) | PFX_66 | SLASH(6) | MOD_MEM, "clwb", OPND_Mb, 0, CLWB, 0, 0, 0, sys_clflush),
        SYS_ROW(ENC0F(0xAE) | PFX_66 | SLASH(7) | MOD_MEM, "clflushopt", OPND_Mb, 0, CLFLUSHOPT, 0, 0, 0, sys_clflush),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(5) | MOD_REG, "lfence", 0, 0, SSE2, ROW_NO_RIP, 0, 0, sys_nothing),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(6) | MOD_REG, "mfence", 0, 0, SSE2, ROW_NO_RIP, 0, 0, sys_nothing),
        SYS_ROW(ENC0F(0xAE) | PFX_NP | SLASH(7) | MOD_REG, "sfence", 0, 0, SSE, ROW_NO_RIP, 0, 0, sys_nothing),
        SYS_ROW(ENC0F(0xAE) | PFX_F3 | SLASH(0) | MOD_REG | MODE64, "rdfsbase", OPND_Ry, 0, FSGSBASE, 0, 0, 0, sys_fsgsbase),
        SYS_ROW(ENC0F(0xAE) | PFX_F3 | SLASH(1) | MOD_REG | MODE64, "rdgsbase", OPND_Ry, 0, FSGSBASE, 0, 0, 0, sys_fsgsbase),
        SYS_ROW(ENC0F(0xAE) | PFX_F3 | SLASH(2) | MOD_REG | MODE64, "wrfsbase", OPND_Ry, 0, FSGSBASE, 0, 0, 0, sys_fsgsbase),
        SYS_ROW(ENC0F(0xAE) | PFX_F3 | SLASH(3) | MOD_REG | MODE64, "wrgsbase", OPND_Ry, 0, FSGSBASE, 0, 0, 0, sys_fsgsbase),
        /* 0F C7 */
        SYS_ROW(ENC0F(0xC7) | PFX_NP | SLASH(4) | MOD_MEM, "xsavec", OPND_M, 0, XSAVEC, ROW_WRITES_MEM, 0, 0, xsave_xsavec),
        SYS_ROW(ENC0F(0xC7) | PFX_F3 | SLASH(7) | MOD_REG, "rdpid", OPND_Ry, 0, RDPID, 0, 0, 0, sys_rdpid),
        SYS_ROW(ENC0F(0xC7) | SLASH(6) | MOD_REG, "rdrand", OPND_Rv, 0, RDRAND, 0, 0, SYS_ALL, sys_rdrand),
        SYS_ROW(ENC0F(0xC7) | SLASH(7) | MOD_REG, "rdseed", OPND_Rv, 0, RDSEED, 0, 0, SYS_ALL, sys_rdrand),
        SYS_ROW(ENC0F38(0x82) | PFX_66 | MOD_MEM, "invpcid", OPND_Gy, OPND_Mdq, INVPCID, ROW_ENDS, 0, 0, sys_invpcid),
        /* old ones */
        SYS_ROW(ENC(0x27) | NOT64, "daa", 0, 0, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_daa),
        SYS_ROW(ENC(0x2F) | NOT64, "das", 0, 0, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_daa),
        SYS_ROW(ENC(0x37) | NOT64, "aaa", 0, 0, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_aaa),
        SYS_ROW(ENC(0x3F) | NOT64, "aas", 0, 0, ALWAYS, 0, SYS_ALL, SYS_ALL, sys_aaa),
        SYS_ROW(ENC(0xD4) | NOT64, "aam", OPND_Ib, 0, ALWAYS, 0, 0, SYS_ALL, sys_aam),
        SYS_ROW(ENC(0xD5) | NOT64, "aad", OPND_Ib, 0, ALWAYS, 0, 0, SYS_ALL, sys_aad),
        SYS_ROW(ENC(0xD6) | NOT64, "salc", 0, 0, ALWAYS, 0, SYS_ALL, 0, sys_salc),
        SYS_ROW(ENC(0x60) | NOT64, "pusha", 0, 0, ALWAYS, 0, 0, 0, sys_pusha),
        SYS_ROW(ENC(0x61) | NOT64, "popa", 0, 0, ALWAYS, 0, 0, 0, sys_popa),
        SYS_ROW(ENC(0x62) | NOT64 | MOD_MEM, "bound", OPND_Gv, OPND_M, ALWAYS, 0, 0, 0, sys_bound),
        SYS_ROW(ENC(0xC8), "enter", OPND_Iw, OPND_Ib, ALWAYS, ROW_DEF64, 0, 0, sys_enter),
        SYS_ROW(ENC(0xD7), "xlat", 0, 0, ALWAYS, 0, 0, 0, sys_xlat),
        { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
    };
    return rows;
}
#undef SYS_ROW
#undef SYS_ALL
#undef SYS_PRIVILEGED
