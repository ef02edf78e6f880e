/* cpu/exception.c - delivery of faults, traps and interrupts.
 *
 * Models     Intel SDM vol. 3 chapter 6 (protected and 64-bit mode), 20 (real, virtual-8086, VME), 17 (debug exceptions).
 * Contract   Instructions raise with cpu_raise*() and return CPU_FAULT; the engine then calls cpu_deliver_fault(). run.c calls
 *            cpu_deliver_interrupt() for what the interrupt controller acknowledged and for NMI. INT n, INT3, INTO come through
 *            cpu_software_interrupt() as instructions that may fault themselves.
 * Theory     exc_deliver_once() tries one event and commits only when every check and push has succeeded; a fault in it leaves the CPU
 *            as it was and cpu->fault set. exc_deliver() is the state machine above it (SDM 3A table 6-5):
 *
 *              event --fault--> benign first or second: deliver the second instead
 *                    --fault--> both contributory, or page fault then contributory/page fault: #DF(0)
 *              #DF   --fault--> shutdown (exc_shutdown): the machine resets, or stops as -no-reboot says
 *
 * Invariants 1. cpu->cr2 changes exactly when a page fault is delivered (or becomes a double fault).
 *            2. Fault-class exceptions push RF set, all others as it is; #DB clears DR7.GD.
 * Missing    SMI.
 */
#include "../machine.h"
#include "cpu.h"
#include "desc.h"

EMU_PRIV int cpu_raise(struct cpu *c, unsigned vector)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.flags = 0;
    c->fault.error = 0;
    return CPU_FAULT;
}

EMU_PRIV int cpu_raise_error(struct cpu *c, unsigned vector, uint32_t error)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.flags = FAULT_HAS_ERROR;
    c->fault.error = error;
    return CPU_FAULT;
}

EMU_PRIV int cpu_raise_page_fault(struct cpu *c, uint64_t va, uint32_t error)
{
    c->fault.cr2 = va;
    return cpu_raise_error(c, EXC_PF, error);
}

/* ---- real mode ---- */

static int exc_deliver_real(struct cpu *c, const struct fault *f, uint64_t return_rip)
{
    uint64_t v;
    struct stack st;
    uint32_t flags = cpu_eflags(c);
    unsigned ext = f->flags & FAULT_SOFT_INT ? 0 : 1;
    if (f->vector * 4u + 3u > c->idtr.limit)
        return cpu_raise_error(c, EXC_GP, f->vector * 8u + 2u + ext);
    if (cpu_load_linear(c, c->idtr.base + f->vector * 4u, 4, &v, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    st.ss = c->seg[SEG_SS];
    st.rsp = c->gpr[GPR_RSP];
    st.wide = false;
    st.access = 0;
    st.error = 0;
    if (stack_push(c, &st, flags & 0xFFFF, 2) || stack_push(c, &st, c->seg[SEG_CS].selector, 2) || stack_push(c, &st, return_rip & 0xFFFF, 2))
        return CPU_FAULT;
    stack_set_rsp(c, &st.ss, st.rsp);
    cpu_set_segment_real(c, SEG_CS, (uint16_t)(v >> 16));
    c->rip = v & 0xFFFF;
    cpu_set_eflags(c, flags & ~(uint32_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
    cpu_update_mode(c);
    return CPU_OK;
}

/* VME: a software interrupt that the TSS's redirection bitmap sends to the virtual-8086 program's own table (SDM 3B 20.3.3.4). */
static int exc_deliver_v86(struct cpu *c, unsigned vector, uint64_t return_rip)
{
    uint64_t v;
    struct stack st;
    uint32_t flags = cpu_eflags(c), pushed = flags;
    bool iopl3 = (flags & FLAG_IOPL) == FLAG_IOPL;
    if (cpu_load_linear(c, vector * 4u, 4, &v, ACCESS_READ))
        return CPU_FAULT;
    if (!iopl3) { /* the program sees VIF as IF, and IOPL 3 */
        pushed = (flags & ~(uint32_t)FLAG_IF) | FLAG_IOPL;
        if (flags & FLAG_VIF)
            pushed |= FLAG_IF;
    }
    st.ss = c->seg[SEG_SS];
    st.rsp = c->gpr[GPR_RSP];
    st.wide = false;
    st.access = 0;
    st.error = 0;
    if (stack_push(c, &st, pushed & 0xFFFF, 2) || stack_push(c, &st, c->seg[SEG_CS].selector, 2) || stack_push(c, &st, return_rip & 0xFFFF, 2))
        return CPU_FAULT;
    stack_set_rsp(c, &st.ss, st.rsp);
    cpu_set_segment_real(c, SEG_CS, (uint16_t)(v >> 16));
    c->rip = v & 0xFFFF;
    cpu_set_eflags(c, flags & ~(uint32_t)(FLAG_TF | (iopl3 ? FLAG_IF : FLAG_VIF)));
    cpu_update_mode(c);
    return CPU_OK;
}

/* ---- protected and 64-bit mode ---- */

EMU_PRIV int tss_stack(struct cpu *c, unsigned cpl, unsigned ext, uint16_t *ss, uint64_t *rsp)
{
    const struct seg *tr = &c->seg[SEG_TR];
    uint64_t v;
    unsigned at;
    if (tr->attr & SEG_UNUSABLE)
        return desc_error(c, EXC_TS, tr->selector, ext);
    if ((tr->attr & SEG_TYPE) & 8) {
        at = 4 + cpl * 8;
        if (at + 5 > tr->limit)
            return desc_error(c, EXC_TS, tr->selector, ext);
        if (cpu_load_linear(c, tr->base + at, 4, rsp, ACCESS_READ | ACCESS_SYSTEM) || cpu_load_linear(c, tr->base + at + 4, 2, &v, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
    } else {
        at = 2 + cpl * 4;
        if (at + 3 > tr->limit)
            return desc_error(c, EXC_TS, tr->selector, ext);
        if (cpu_load_linear(c, tr->base + at, 2, rsp, ACCESS_READ | ACCESS_SYSTEM) || cpu_load_linear(c, tr->base + at + 2, 2, &v, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
    }
    *ss = (uint16_t)v;
    return CPU_OK;
}

/* 64-bit TSS: RSP0-2 at 4, IST1-7 at 36. */
static int exc_tss64_stack(struct cpu *c, unsigned offset, unsigned ext, uint64_t *rsp)
{
    const struct seg *tr = &c->seg[SEG_TR];
    if ((tr->attr & SEG_UNUSABLE) || offset + 7 > tr->limit)
        return desc_error(c, EXC_TS, tr->selector, ext);
    if (cpu_load_linear(c, tr->base + offset, 8, rsp, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if (!cpu_canonical(c, *rsp))
        return cpu_raise_error(c, EXC_SS, ext);
    return CPU_OK;
}

/* Value of EFLAGS on the stack. */
static uint32_t exc_pushed_flags(const struct cpu *c, const struct fault *f)
{
    uint32_t flags = cpu_eflags(c);
    bool fault_class = !(f->flags & (FAULT_SOFT_INT | FAULT_ICEBP | FAULT_EXTERNAL)) && f->vector != EXC_DB && f->vector != EXC_BP && f->vector != EXC_OF;
    return fault_class ? flags | FLAG_RF : flags;
}

/* Reads and checks the gate of a vector. task: it is a task gate. */
static int exc_read_gate(struct cpu *c, const struct fault *f, unsigned ext, bool lma, uint32_t gate[4], bool *task)
{
    unsigned size = lma ? 16 : 8, type;
    uint32_t error = f->vector * 8u + 2u + ext;
    uint64_t v, at = c->idtr.base + f->vector * size;
    if (f->vector * size + size - 1 > c->idtr.limit)
        return cpu_raise_error(c, EXC_GP, error);
    if (cpu_load_linear(c, at, 8, &v, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    gate[0] = (uint32_t)v;
    gate[1] = (uint32_t)(v >> 32);
    gate[2] = gate[3] = 0;
    if (lma) {
        if (cpu_load_linear(c, at + 8, 8, &v, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
        gate[2] = (uint32_t)v;
        gate[3] = (uint32_t)(v >> 32);
    }
    type = (gate[1] >> 8) & 0x1F; /* S is 0 in gates */
    *task = type == DESC_TASK_GATE && !lma;
    if (!*task && type != DESC_INT32 && type != DESC_TRAP32 && (lma || (type != DESC_INT16 && type != DESC_TRAP16)))
        return cpu_raise_error(c, EXC_GP, error);
    if ((f->flags & FAULT_SOFT_INT) && ((gate[1] >> 13) & 3) < c->cpl)
        return cpu_raise_error(c, EXC_GP, error);
    if (!((gate[1] >> 15) & 1))
        return cpu_raise_error(c, EXC_NP, error);
    return CPU_OK;
}

static int exc_deliver_task(struct cpu *c, const struct fault *f, const uint32_t gate[4], unsigned ext, uint64_t return_rip)
{
    struct desc d;
    uint16_t selector = (uint16_t)(gate[0] >> 16);
    if (sel_is_null(selector) || (selector & 4))
        return desc_error(c, EXC_GP, selector, ext);
    if (desc_fetch(c, selector, EXC_GP, ext, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || (desc_type(&d) != DESC_TSS16 && desc_type(&d) != DESC_TSS32))
        return desc_error(c, EXC_GP, selector, ext);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, ext);
    return task_switch(c, &d, TASK_INT, (f->flags & FAULT_HAS_ERROR) != 0, f->error, return_rip, ext);
}

static int exc_push_frame(struct cpu *c, struct stack *st, const struct fault *f, uint64_t return_rip, unsigned size, bool with_stack, bool v86)
{
    if (v86 && (stack_push(c, st, c->seg[SEG_GS].selector, size) || stack_push(c, st, c->seg[SEG_FS].selector, size) ||
                stack_push(c, st, c->seg[SEG_DS].selector, size) || stack_push(c, st, c->seg[SEG_ES].selector, size)))
        return CPU_FAULT;
    if (with_stack && (stack_push(c, st, c->seg[SEG_SS].selector, size) || stack_push(c, st, c->gpr[GPR_RSP], size)))
        return CPU_FAULT;
    if (stack_push(c, st, exc_pushed_flags(c, f), size) || stack_push(c, st, c->seg[SEG_CS].selector, size) || stack_push(c, st, return_rip, size))
        return CPU_FAULT;
    if ((f->flags & FAULT_HAS_ERROR) && stack_push(c, st, f->error, size))
        return CPU_FAULT;
    return CPU_OK;
}

/* SDM 2A "INT n", operation section: INTRA- and INTER-PRIVILEGE-LEVEL, FROM-VIRTUAL-8086-MODE, and their 64-bit forms. */
static int exc_deliver_protected(struct cpu *c, const struct fault *f, uint64_t return_rip)
{
    bool lma = (c->efer & EFER_LMA) != 0, task, inter, v86 = c->mode == MODE_V86;
    unsigned ext = f->flags & FAULT_SOFT_INT ? 0 : 1, size, new_cpl, ist = 0;
    uint32_t gate[4], new_flags;
    uint64_t offset, new_rsp = 0;
    uint16_t selector, ss_selector = 0;
    struct desc cs;
    struct seg new_cs;
    struct stack st;
    if (exc_read_gate(c, f, ext, lma, gate, &task))
        return CPU_FAULT;
    if (task)
        return exc_deliver_task(c, f, gate, ext, return_rip);
    selector = (uint16_t)(gate[0] >> 16);
    offset = (gate[0] & 0xFFFF) | (gate[1] & 0xFFFF0000u) | ((uint64_t)gate[2] << 32);
    size = lma ? 8 : (gate[1] >> 11) & 1 ? 4 : 2;
    if (size == 2)
        offset &= 0xFFFF;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, ext);
    if (desc_fetch(c, selector, EXC_GP, ext, &cs))
        return CPU_FAULT;
    if (!desc_is_code(&cs) || desc_dpl(&cs) > c->cpl)
        return desc_error(c, EXC_GP, selector, ext);
    if (lma && (!desc_long(&cs) || desc_db(&cs)))
        return desc_error(c, EXC_GP, selector, ext);
    if (!desc_present(&cs))
        return desc_error(c, EXC_NP, selector, ext);
    inter = !desc_conforming(&cs) && desc_dpl(&cs) < c->cpl;
    if (v86 && (!inter || desc_dpl(&cs) != 0))
        return desc_error(c, EXC_GP, selector, ext);
    new_cpl = inter ? desc_dpl(&cs) : c->cpl;
    if (lma)
        ist = gate[1] & 7;
    st.ss = c->seg[SEG_SS];
    st.rsp = c->gpr[GPR_RSP];
    st.wide = lma;
    st.access = inter ? ACCESS_SYSTEM : 0;
    st.error = ext;
    if (lma) {
        if (ist) {
            if (exc_tss64_stack(c, 36 + (ist - 1) * 8, ext, &new_rsp))
                return CPU_FAULT;
            st.rsp = new_rsp;
        } else if (inter) {
            if (exc_tss64_stack(c, 4 + new_cpl * 8, ext, &new_rsp))
                return CPU_FAULT;
            st.rsp = new_rsp;
        }
        st.rsp &= ~UINT64_C(15);
        if (inter) { /* SS becomes a null selector with RPL = CPL */
            st.ss.selector = (uint16_t)new_cpl;
            st.ss.base = 0;
            st.ss.limit = 0;
            st.ss.attr = SEG_UNUSABLE | new_cpl << 5;
        }
    } else if (inter) {
        if (tss_stack(c, new_cpl, ext, &ss_selector, &new_rsp) || seg_fetch_stack(c, ss_selector, new_cpl, EXC_TS, EXC_SS, ext, &st.ss))
            return CPU_FAULT;
        st.rsp = new_rsp;
        st.error = (ss_selector & 0xFFFCu) | ext;
    }
    desc_to_seg(&cs, (uint16_t)((selector & 0xFFFC) | new_cpl), &new_cs);
    if (lma ? !cpu_canonical(c, offset) : offset > new_cs.limit)
        return cpu_raise_error(c, EXC_GP, ext);
    if (exc_push_frame(c, &st, f, return_rip, size, lma || inter, v86))
        return CPU_FAULT;
    if (desc_set_type_bits(c, &cs, SEG_ACCESSED, 0))
        return CPU_FAULT;
    /* commit */
    new_cs.attr |= SEG_ACCESSED;
    new_flags = cpu_eflags(c) & ~(uint32_t)(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
    if (!((gate[1] >> 8) & 1)) /* interrupt gate */
        new_flags &= ~(uint32_t)FLAG_IF;
    c->cpl = (uint8_t)new_cpl;
    if (v86) {
        seg_set_null(c, SEG_GS, 0);
        seg_set_null(c, SEG_FS, 0);
        seg_set_null(c, SEG_DS, 0);
        seg_set_null(c, SEG_ES, 0);
    }
    if (inter)
        c->seg[SEG_SS] = st.ss;
    c->seg[SEG_CS] = new_cs;
    c->rip = offset;
    cpu_set_eflags(c, new_flags);
    cpu_update_mode(c);
    if (lma)
        c->gpr[GPR_RSP] = st.rsp;
    else
        stack_set_rsp(c, &st.ss, st.rsp);
    return CPU_OK;
}

/* ---- common ---- */

static void exc_log(struct cpu *c, const struct fault *f, uint64_t rip)
{
    char tail[48];
    if (f->vector == EXC_PF && !(f->flags & (FAULT_EXTERNAL | FAULT_SOFT_INT)))
        snprintf(tail, sizeof tail, " CR2=%016" PRIx64, f->cr2);
    else
        snprintf(tail, sizeof tail, " env->regs[R_EAX]=%016" PRIx64, c->gpr[GPR_RAX]);
    emu_log(c->emu, LOG_INT, "%6" PRIu64 ": v=%02x e=%04x i=%d cpl=%u IP=%04x:%016" PRIx64 " pc=%016" PRIx64 " SP=%04x:%016" PRIx64 "%s",
            cpu_insn_count(c), f->vector, (unsigned)f->error, (f->flags & FAULT_SOFT_INT) != 0, c->cpl, c->seg[SEG_CS].selector, rip,
            (c->mode == MODE_LONG ? 0 : c->seg[SEG_CS].base) + rip, c->seg[SEG_SS].selector, c->gpr[GPR_RSP], tail);
}

EMU_PRIV int exc_deliver_once(struct cpu *c, const struct fault *f, uint64_t return_rip)
{
    return c->mode == MODE_REAL ? exc_deliver_real(c, f, return_rip) : exc_deliver_protected(c, f, return_rip);
}

enum exc_class { EXC_CLASS_BENIGN, EXC_CLASS_CONTRIBUTORY, EXC_CLASS_PAGE };
static enum exc_class exc_class(const struct fault *f)
{
    if (f->flags & (FAULT_EXTERNAL | FAULT_SOFT_INT | FAULT_ICEBP))
        return EXC_CLASS_BENIGN;
    switch (f->vector) {
    case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP: return EXC_CLASS_CONTRIBUTORY;
    case EXC_PF: return EXC_CLASS_PAGE;
    default: return EXC_CLASS_BENIGN;
    }
}

static void exc_shutdown(struct cpu *c)
{
    c->shutdown = true;
    c->attention |= CPU_ATTENTION_INT;
    emu_log(c->emu, LOG_INT | LOG_CPU_RESET, "Triple fault");
    if (EMU_LOG_ENABLED(c->emu, LOG_CPU_RESET))
        cpu_log_registers(c, LOG_CPU_RESET);
}

static void exc_deliver(struct cpu *c, struct fault f, uint64_t return_rip)
{
    c->halted = false;
    c->interrupt_shadow = 0;
    for (;;) {
        struct fault nested;
        enum exc_class first, second;
        if (f.vector == EXC_PF && (f.flags & FAULT_HAS_ERROR))
            c->cr2 = f.cr2;
        if (EMU_LOG_ENABLED(c->emu, LOG_INT))
            exc_log(c, &f, return_rip);
        if (exc_deliver_once(c, &f, return_rip) == CPU_OK) {
            if (f.vector == EXC_DB && !(f.flags & FAULT_SOFT_INT))
                c->dr[7] &= ~UINT64_C(0x2000); /* GD */
            return;
        }
        nested = c->fault;
        if (f.vector == EXC_DF && !(f.flags & (FAULT_EXTERNAL | FAULT_SOFT_INT))) {
            exc_shutdown(c);
            return;
        }
        first = exc_class(&f);
        second = exc_class(&nested);
        if ((first == EXC_CLASS_CONTRIBUTORY && second == EXC_CLASS_CONTRIBUTORY) || (first == EXC_CLASS_PAGE && second != EXC_CLASS_BENIGN)) {
            if (nested.vector == EXC_PF)
                c->cr2 = nested.cr2;
            f.vector = EXC_DF;
            f.flags = FAULT_HAS_ERROR;
            f.error = 0;
        } else {
            f = nested;
        }
        return_rip = c->rip; /* a task switch may have moved it; else it is what it was for faults */
    }
}

EMU_PRIV void cpu_deliver_fault(struct cpu *c)
{
    struct fault f = c->fault;
    exc_deliver(c, f, f.flags & (FAULT_SOFT_INT | FAULT_ICEBP) ? c->next_rip : c->rip);
}

EMU_PRIV void cpu_deliver_interrupt(struct cpu *c, unsigned vector)
{
    struct fault f;
    memset(&f, 0, sizeof f);
    f.vector = (uint8_t)vector;
    f.flags = FAULT_EXTERNAL;
    if (vector == EXC_NMI)
        c->nmi_blocked = true; /* until IRET */
    exc_deliver(c, f, c->rip);
}

EMU_PRIV void cpu_debug_trap(struct cpu *c, uint64_t dr6_bits)
{
    struct fault f;
    memset(&f, 0, sizeof f);
    f.vector = EXC_DB;
    c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | dr6_bits;
    c->debug_hits = 0;
    exc_deliver(c, f, c->rip);
}

EMU_PRIV int cpu_check_exec_breakpoint(struct cpu *c, uint64_t va)
{
    unsigned n, hit = 0;
    if (c->eflags & FLAG_RF) { /* for one instruction; faults in it push RF set by themselves */
        c->eflags &= ~(uint32_t)FLAG_RF;
        return CPU_OK;
    }
    if (!(c->dr[7] & 0xFF))
        return CPU_OK;
    for (n = 0; n < 4; n++)
        if (((c->dr[7] >> (n * 2)) & 3) && ((c->dr[7] >> (16 + n * 4)) & 3) == 0 && c->dr[n] == va)
            hit |= 1u << n;
    if (!hit)
        return CPU_OK;
    c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | hit;
    return cpu_raise(c, EXC_DB);
}

EMU_PRIV void cpu_check_io_breakpoint(struct cpu *c, uint16_t port, unsigned size)
{
    unsigned n;
    if (!(c->dr[7] & 0xFF) || !(c->cr4 & CR4_DE))
        return;
    for (n = 0; n < 4; n++)
        if (((c->dr[7] >> (n * 2)) & 3) && ((c->dr[7] >> (16 + n * 4)) & 3) == 2) {
            unsigned code = (unsigned)(c->dr[7] >> (18 + n * 4)) & 3, width = code == 3 ? 4 : code == 1 ? 2 : 1;
            uint64_t at = c->dr[n] & ~(uint64_t)(width - 1);
            if (port < at + width && at < (uint64_t)port + size)
                c->debug_hits |= 1u << n;
        }
}

/* ---- INT n, INT3, INTO, INT1: instructions ---- */

static bool exc_v86_redirected(struct cpu *c, unsigned vector, bool *redirected)
{
    /* The 32-byte bitmap lies below the I/O bitmap; bit clear: the program's own handler. */
    const struct seg *tr = &c->seg[SEG_TR];
    uint64_t iomap, bits;
    if (cpu_load_linear(c, tr->base + 0x66, 2, &iomap, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    if (iomap < 32 || iomap - 32 + vector / 8 > tr->limit) {
        *redirected = false;
        return true;
    }
    if (cpu_load_linear(c, tr->base + iomap - 32 + vector / 8, 1, &bits, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    *redirected = !((bits >> (vector & 7)) & 1);
    return true;
}

/* flags: FAULT_SOFT_INT (with FAULT_INT_N for INT imm8), or FAULT_ICEBP for INT1. */
EMU_PRIV int cpu_software_interrupt(struct cpu *c, unsigned vector, unsigned flags)
{
    struct fault f;
    uint64_t rip = c->rip;
    int r;
    memset(&f, 0, sizeof f);
    f.vector = (uint8_t)vector;
    f.flags = (uint8_t)flags;
    if (c->mode == MODE_V86 && (flags & FAULT_INT_N)) {
        bool redirected = false;
        if ((c->cr4 & CR4_VME) && !exc_v86_redirected(c, vector, &redirected))
            return CPU_FAULT;
        if (redirected) {
            r = exc_deliver_v86(c, vector, c->next_rip);
            goto done;
        }
        if ((c->eflags & FLAG_IOPL) != FLAG_IOPL)
            return cpu_raise_error(c, EXC_GP, 0);
    }
    if (EMU_LOG_ENABLED(c->emu, LOG_INT))
        exc_log(c, &f, c->next_rip);
    r = exc_deliver_once(c, &f, c->next_rip);
done:
    if (r == CPU_OK) {
        c->next_rip = c->rip;
        c->rip = rip;
        if (flags & FAULT_ICEBP)
            c->dr[7] &= ~UINT64_C(0x2000);
    }
    return r;
}
