/* cpu/control.c - far transfers, gates, tasks, fast system calls.
 *
 * Models     Intel SDM vol. 2 JMP, CALL, RET, IRET, SYSCALL, SYSRET, SYSENTER, SYSEXIT (operation sections); vol. 3 chapter 5.8 (gates), 7
 *            (tasks). Intel's choices where vendors differ: SYSENTER works in compatibility mode, SYSCALL does not; SYSRET to a
 *            non-canonical RCX faults at CPL 0.
 * Contract   Called as instruction bodies (cpu->rip, next_rip set). Success leaves the target in next_rip; the engine makes it rip.
 * Theory     Everything is read and checked first, pushes go to a struct stack, and only then registers change: a fault leaves the
 *            old state. The exception is a task switch, whose later faults belong to the new task (SDM 3A 7.3): there rip, too, is
 *            already the new task's.
 * Invariants 1. CPL changes only together with CS.
 *            2. After a return to an outer level no data segment keeps a descriptor of an inner one.
 */
#include "../machine.h"
#include "cpu.h"
#include "desc.h"

static bool control_lma(const struct cpu *c) { return (c->efer & EFER_LMA) != 0; }

/* Checks the target offset in the code segment d: canonical in 64-bit code, else within the limit. */
static int control_check_offset(struct cpu *c, const struct seg *cs, uint64_t offset)
{
    if (control_lma(c) && (cs->attr & SEG_L)) {
        if (!cpu_canonical(c, offset))
            return cpu_raise_error(c, EXC_GP, 0);
    } else if (offset > cs->limit) {
        return cpu_raise_error(c, EXC_GP, 0);
    }
    return CPU_OK;
}

static int control_load_cs(struct cpu *c, struct desc *d, unsigned cpl, struct seg *out)
{
    if (desc_set_type_bits(c, d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(d, (uint16_t)((d->selector & 0xFFFC) | cpl), out);
    return CPU_OK;
}

static void control_commit_cs(struct cpu *c, const struct seg *cs, unsigned cpl, uint64_t rip)
{
    c->seg[SEG_CS] = *cs;
    c->cpl = (uint8_t)cpl;
    c->next_rip = rip;
    cpu_update_mode(c);
}

static void control_stack_here(struct cpu *c, struct stack *st)
{
    st->ss = c->seg[SEG_SS];
    st->rsp = c->gpr[GPR_RSP];
    st->wide = c->mode == MODE_LONG;
    st->access = 0;
    st->error = 0;
}

static uint64_t control_cut(uint64_t v, unsigned size) { return size == 8 ? v : size == 4 ? v & 0xFFFFFFFFu : v & 0xFFFF; }

/* ---- task switch (SDM 3A 7.3) ---- */

struct task_image { /* the register part of a TSS, 16- or 32-bit */
    uint32_t cr3, eip, eflags, gpr[8];
    uint16_t seg[6], ldt, trap;
};
enum { TASK_LIMIT16 = 0x2B, TASK_LIMIT32 = 0x67 };

static int task_read(struct cpu *c, uint64_t base, bool wide, struct task_image *t)
{
    uint8_t b[104];
    unsigned k, size = wide ? 104 : 44;
    memset(t, 0, sizeof *t);
    if (cpu_copy_linear(c, base, b, size, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if (wide) {
        t->cr3 = ld32le(b + 0x1C);
        t->eip = ld32le(b + 0x20);
        t->eflags = ld32le(b + 0x24);
        for (k = 0; k < 8; k++)
            t->gpr[k] = ld32le(b + 0x28 + k * 4);
        for (k = 0; k < 6; k++)
            t->seg[k] = ld16le(b + 0x48 + k * 4);
        t->ldt = ld16le(b + 0x60);
        t->trap = ld16le(b + 0x64) & 1;
    } else {
        t->eip = ld16le(b + 0x0E);
        t->eflags = ld16le(b + 0x10);
        for (k = 0; k < 8; k++)
            t->gpr[k] = ld16le(b + 0x12 + k * 2) | 0xFFFF0000u; /* the upper halves become ones on hardware of the 386 line */
        for (k = 0; k < 4; k++)
            t->seg[k] = ld16le(b + 0x22 + k * 2);
        t->ldt = ld16le(b + 0x2A);
    }
    return CPU_OK;
}

/* Saves the dynamic fields: EIP, EFLAGS, registers, segment selectors. */
static int task_save(struct cpu *c, uint64_t base, bool wide, uint32_t eip, uint32_t eflags)
{
    uint8_t b[64];
    unsigned k;
    if (wide) {
        st32le(b, eip);
        st32le(b + 4, eflags);
        for (k = 0; k < 8; k++)
            st32le(b + 8 + k * 4, (uint32_t)c->gpr[k]);
        if (cpu_copy_linear(c, base + 0x20, b, 40, ACCESS_WRITE | ACCESS_SYSTEM))
            return CPU_FAULT;
        for (k = 0; k < 6; k++)
            if (cpu_store_linear(c, base + 0x48 + k * 4, 2, c->seg[k].selector, ACCESS_WRITE | ACCESS_SYSTEM))
                return CPU_FAULT;
        return CPU_OK;
    }
    st16le(b, (uint16_t)eip);
    st16le(b + 2, (uint16_t)eflags);
    for (k = 0; k < 8; k++)
        st16le(b + 4 + k * 2, (uint16_t)c->gpr[k]);
    for (k = 0; k < 4; k++)
        st16le(b + 20 + k * 2, c->seg[k].selector);
    return cpu_copy_linear(c, base + 0x0E, b, 28, ACCESS_WRITE | ACCESS_SYSTEM);
}

/* Loads one data segment of the new task; faults are #TS, #NP or #SS with the selector. */
static int task_load_data(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct desc d;
    unsigned rpl = selector & 3;
    if (seg == SEG_SS) {
        struct seg ss;
        if (seg_fetch_stack(c, selector, c->cpl, EXC_TS, EXC_SS, 0, &ss))
            return CPU_FAULT;
        c->seg[SEG_SS] = ss;
        return CPU_OK;
    }
    if (sel_is_null(selector))
        return CPU_OK;
    if (desc_fetch(c, selector, EXC_TS, 0, &d))
        return CPU_FAULT;
    if (!desc_is_segment(&d) || (desc_type(&d) & (SEG_CODE | SEG_WRITE_READ)) == SEG_CODE)
        return desc_error(c, EXC_TS, selector, 0);
    if (!(desc_is_code(&d) && desc_conforming(&d)) && (rpl > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
        return desc_error(c, EXC_TS, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[seg]);
    return CPU_OK;
}

static int task_load_code(struct cpu *c, uint16_t selector)
{
    struct desc d;
    if (sel_is_null(selector))
        return desc_error(c, EXC_TS, selector, 0);
    if (desc_fetch(c, selector, EXC_TS, 0, &d))
        return CPU_FAULT;
    if (!desc_is_code(&d))
        return desc_error(c, EXC_TS, selector, 0);
    if (desc_conforming(&d) ? desc_dpl(&d) > (selector & 3u) : desc_dpl(&d) != (selector & 3u))
        return desc_error(c, EXC_TS, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_CS]);
    return CPU_OK;
}

/* Steps 12 and 13: the new task's descriptors, with its selectors already in place. */
static int task_load_segments(struct cpu *c, const struct task_image *t)
{
    static const uint8_t order[5] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    unsigned k;
    if (desc_load_ldtr(c, t->ldt, EXC_TS))
        return CPU_FAULT;
    if (c->eflags & FLAG_VM) {
        c->cpl = 3;
        for (k = 0; k < 6; k++)
            cpu_set_segment_real(c, k, t->seg[k]);
        cpu_update_mode(c);
        return CPU_OK;
    }
    c->cpl = t->seg[SEG_CS] & 3;
    if (task_load_code(c, t->seg[SEG_CS]))
        return CPU_FAULT;
    cpu_update_mode(c);
    for (k = 0; k < 5; k++)
        if (task_load_data(c, order[k], t->seg[order[k]]))
            return CPU_FAULT;
    if (t->eip > c->seg[SEG_CS].limit)
        return cpu_raise_error(c, EXC_GP, 0);
    return CPU_OK;
}

EMU_PRIV int task_switch(struct cpu *c, struct desc *d, enum task_source source, bool has_error, uint32_t error, uint64_t return_ip, unsigned ext)
{
    bool wide = (desc_type(d) & 8) != 0, old_wide = (c->seg[SEG_TR].attr & 8) != 0;
    struct task_image t;
    struct seg tr;
    struct desc old;
    uint64_t old_base = c->seg[SEG_TR].base;
    uint32_t old_flags = cpu_eflags(c);
    uint16_t old_tr = c->seg[SEG_TR].selector;
    unsigned k;
    int r;
    desc_to_seg(d, d->selector, &tr);
    if (tr.limit < (wide ? (unsigned)TASK_LIMIT32 : (unsigned)TASK_LIMIT16))
        return desc_error(c, EXC_TS, d->selector, ext);
    if ((c->seg[SEG_TR].attr & SEG_UNUSABLE) || c->seg[SEG_TR].limit < (old_wide ? (unsigned)TASK_LIMIT32 : (unsigned)TASK_LIMIT16))
        return desc_error(c, EXC_TS, old_tr, ext);
    if (task_read(c, tr.base, wide, &t))
        return CPU_FAULT;
    if (source == TASK_IRET)
        old_flags &= ~(uint32_t)FLAG_NT;
    if (source == TASK_JMP || source == TASK_IRET) {
        if (desc_fetch(c, old_tr, EXC_TS, ext, &old) || desc_set_type_bits(c, &old, 0, 2))
            return CPU_FAULT;
    }
    if (task_save(c, old_base, old_wide, (uint32_t)return_ip, old_flags))
        return CPU_FAULT;
    if (source == TASK_CALL || source == TASK_INT) {
        if (cpu_store_linear(c, tr.base, 2, old_tr, ACCESS_WRITE | ACCESS_SYSTEM))
            return CPU_FAULT;
        t.eflags |= FLAG_NT;
    }
    if (source != TASK_IRET && desc_set_type_bits(c, d, 2, 0))
        return CPU_FAULT;
    /* Commit: from here faults happen in the new task. */
    desc_to_seg(d, d->selector, &tr);
    tr.attr |= 2;
    c->seg[SEG_TR] = tr;
    c->cr0 |= CR0_TS;
    if (wide && (c->cr0 & CR0_PG) && t.cr3 != c->cr3) {
        tlb_set_cr3(c, t.cr3, false);
        if ((c->cr4 & CR4_PAE) && mmu_load_pdptes(c, t.cr3))
            memset(c->pdpte, 0, sizeof c->pdpte);
    }
    for (k = 0; k < 8; k++)
        c->gpr[k] = t.gpr[k];
    c->rip = c->next_rip = t.eip;
    if (!wide)
        t.eflags |= cpu_eflags(c) & 0xFFFF0000u & ~(uint32_t)(FLAG_RF | FLAG_VM);
    cpu_set_eflags(c, (t.eflags & 0x003F7FD7u) | 2);
    for (k = 0; k < 6; k++) {
        c->cpl = 3;
        seg_set_null(c, k, t.seg[k]);
    }
    c->cpl = t.seg[SEG_CS] & 3;
    c->seg[SEG_CS].limit = 0xFFFFFFFFu; /* until its descriptor has been read: delivery of a fault looks at selector and CPL only */
    if (c->dr[7] & 0x155) { /* local enables end with the task */
        c->dr[7] &= ~UINT64_C(0x155);
        tlb_flush_all(c);
    }
    r = task_load_segments(c, &t);
    cpu_update_mode(c);
    if (r)
        return CPU_FAULT;
    if (has_error) {
        if (cpu_push(c, error, wide ? 4 : 2))
            return CPU_FAULT;
    }
    if (t.trap) { /* BT: before the first instruction of the new task */
        c->dr[6] = (c->dr[6] & ~UINT64_C(15)) | (1u << 15);
        c->debug_hits = 0;
        return cpu_raise(c, EXC_DB);
    }
    return CPU_OK;
}

/* ---- far JMP and CALL ---- */

static int control_far_real(struct cpu *c, uint16_t selector, uint64_t offset, unsigned opsize, bool call)
{
    struct stack st;
    if (offset > c->seg[SEG_CS].limit)
        return cpu_raise_error(c, EXC_GP, 0);
    if (call) {
        control_stack_here(c, &st);
        if (stack_push(c, &st, c->seg[SEG_CS].selector, opsize) || stack_push(c, &st, control_cut(c->next_rip, opsize), opsize))
            return CPU_FAULT;
        stack_set_rsp(c, &st.ss, st.rsp);
    }
    cpu_set_segment_real(c, SEG_CS, selector);
    c->next_rip = offset;
    cpu_update_mode(c);
    return CPU_OK;
}

/* A direct transfer to a code segment: privilege does not change. */
static int control_far_code(struct cpu *c, struct desc *d, uint64_t offset, unsigned opsize, bool call)
{
    struct seg cs;
    struct stack st;
    if (desc_conforming(d) ? desc_dpl(d) > c->cpl : (d->selector & 3u) > c->cpl || desc_dpl(d) != c->cpl)
        return desc_error(c, EXC_GP, d->selector, 0);
    if (control_lma(c) && desc_long(d) && desc_db(d))
        return desc_error(c, EXC_GP, d->selector, 0);
    if (!desc_present(d))
        return desc_error(c, EXC_NP, d->selector, 0);
    desc_to_seg(d, d->selector, &cs);
    if (!(control_lma(c) && (cs.attr & SEG_L)))
        offset &= 0xFFFFFFFFu;
    if (control_check_offset(c, &cs, offset))
        return CPU_FAULT;
    if (call) {
        control_stack_here(c, &st);
        if (stack_push(c, &st, c->seg[SEG_CS].selector, opsize) || stack_push(c, &st, control_cut(c->next_rip, opsize), opsize))
            return CPU_FAULT;
    }
    if (control_load_cs(c, d, c->cpl, &cs))
        return CPU_FAULT;
    if (call)
        stack_set_rsp(c, &st.ss, st.rsp);
    control_commit_cs(c, &cs, c->cpl, offset);
    return CPU_OK;
}

/* CALL through a gate to a more privileged level: new stack, parameters copied (SDM 2A CALL, MORE-PRIVILEGE). */
static int control_gate_inner(struct cpu *c, const struct desc *gate, struct desc *d, uint64_t offset, unsigned size)
{
    bool lma = control_lma(c);
    unsigned cpl = desc_dpl(d), count = lma ? 0 : gate->high & 31, k;
    uint16_t ss_selector = (uint16_t)cpl;
    uint64_t rsp, param, old_mask = seg_stack_mask(c, &c->seg[SEG_SS]);
    struct stack st;
    struct seg cs;
    uint64_t params[32];
    memset(&st, 0, sizeof st);
    st.wide = lma;
    st.access = ACCESS_SYSTEM;
    if (lma) {
        const struct seg *tr = &c->seg[SEG_TR];
        if ((tr->attr & SEG_UNUSABLE) || 4 + cpl * 8 + 7 > tr->limit)
            return desc_error(c, EXC_TS, tr->selector, 0);
        if (cpu_load_linear(c, tr->base + 4 + cpl * 8, 8, &rsp, ACCESS_READ | ACCESS_SYSTEM))
            return CPU_FAULT;
        st.ss.selector = ss_selector;
        st.ss.attr = SEG_UNUSABLE | cpl << 5;
    } else {
        if (tss_stack(c, cpl, 0, &ss_selector, &rsp) || seg_fetch_stack(c, ss_selector, cpl, EXC_TS, EXC_SS, 0, &st.ss))
            return CPU_FAULT;
        st.error = ss_selector & 0xFFFCu;
    }
    st.rsp = rsp;
    for (k = 0; k < count; k++)
        if (cpu_load(c, SEG_SS, (c->gpr[GPR_RSP] + (uint64_t)k * size) & old_mask, size, &params[k]))
            return CPU_FAULT;
    if (stack_push(c, &st, c->seg[SEG_SS].selector, size) || stack_push(c, &st, control_cut(c->gpr[GPR_RSP], size), size))
        return CPU_FAULT;
    for (k = count; k > 0; k--) {
        param = params[k - 1];
        if (stack_push(c, &st, param, size))
            return CPU_FAULT;
    }
    if (stack_push(c, &st, c->seg[SEG_CS].selector, size) || stack_push(c, &st, control_cut(c->next_rip, size), size))
        return CPU_FAULT;
    desc_to_seg(d, d->selector, &cs);
    if (control_check_offset(c, &cs, offset) || control_load_cs(c, d, cpl, &cs))
        return CPU_FAULT;
    c->seg[SEG_SS] = st.ss;
    control_commit_cs(c, &cs, cpl, offset);
    stack_set_rsp(c, &st.ss, st.rsp);
    return CPU_OK;
}

static int control_far_gate(struct cpu *c, struct desc *gate, bool call)
{
    bool lma = control_lma(c);
    unsigned size = lma ? 8 : desc_type(gate) == DESC_CALL32 ? 4 : 2;
    uint16_t selector = (uint16_t)(gate->low >> 16);
    uint64_t offset = (gate->low & 0xFFFF) | (gate->high & 0xFFFF0000u);
    struct desc d;
    struct seg cs;
    struct stack st;
    if (desc_dpl(gate) < c->cpl || desc_dpl(gate) < (gate->selector & 3u))
        return desc_error(c, EXC_GP, gate->selector, 0);
    if (lma && desc_load_upper(c, gate, 0))
        return CPU_FAULT;
    if (!desc_present(gate))
        return desc_error(c, EXC_NP, gate->selector, 0);
    if (lma)
        offset |= gate->upper << 32;
    if (size == 2)
        offset &= 0xFFFF;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if (!desc_is_code(&d) || desc_dpl(&d) > c->cpl || (!call && !desc_conforming(&d) && desc_dpl(&d) != c->cpl))
        return desc_error(c, EXC_GP, selector, 0);
    if (lma && (!desc_long(&d) || desc_db(&d)))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (call && !desc_conforming(&d) && desc_dpl(&d) < c->cpl)
        return control_gate_inner(c, gate, &d, offset, size);
    desc_to_seg(&d, selector, &cs);
    if (control_check_offset(c, &cs, offset))
        return CPU_FAULT;
    if (call) {
        control_stack_here(c, &st);
        st.wide = lma;
        if (stack_push(c, &st, c->seg[SEG_CS].selector, size) || stack_push(c, &st, control_cut(c->next_rip, size), size))
            return CPU_FAULT;
    }
    if (control_load_cs(c, &d, c->cpl, &cs))
        return CPU_FAULT;
    control_commit_cs(c, &cs, c->cpl, offset);
    if (call)
        stack_set_rsp(c, &st.ss, st.rsp);
    return CPU_OK;
}

static int control_far_task(struct cpu *c, struct desc *d, bool call, bool by_gate)
{
    if (by_gate) {
        uint16_t tss = (uint16_t)(d->low >> 16);
        if (sel_is_null(tss) || (tss & 4))
            return desc_error(c, EXC_GP, tss, 0);
        if (desc_fetch(c, tss, EXC_GP, 0, d))
            return CPU_FAULT;
        if (desc_is_segment(d) || (desc_type(d) != DESC_TSS16 && desc_type(d) != DESC_TSS32))
            return desc_error(c, EXC_GP, tss, 0);
    }
    if (!desc_present(d))
        return desc_error(c, EXC_NP, d->selector, 0);
    return task_switch(c, d, call ? TASK_CALL : TASK_JMP, false, 0, c->next_rip, 0);
}

EMU_PRIV int cpu_far_transfer(struct cpu *c, uint16_t selector, uint64_t offset, unsigned opsize, bool call)
{
    struct desc d;
    unsigned type;
    if (c->mode == MODE_REAL || c->mode == MODE_V86)
        return control_far_real(c, selector, offset, opsize, call);
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d)) {
        if (!desc_is_code(&d))
            return desc_error(c, EXC_GP, selector, 0);
        return control_far_code(c, &d, offset, opsize, call);
    }
    type = desc_type(&d);
    if (control_lma(c)) {
        if (type != DESC_CALL32)
            return desc_error(c, EXC_GP, selector, 0);
        return control_far_gate(c, &d, call);
    }
    switch (type) {
    case DESC_CALL16:
    case DESC_CALL32:
        return control_far_gate(c, &d, call);
    case DESC_TASK_GATE:
    case DESC_TSS16:
    case DESC_TSS32:
        if (desc_dpl(&d) < c->cpl || desc_dpl(&d) < (selector & 3u))
            return desc_error(c, EXC_GP, selector, 0);
        if (type == DESC_TASK_GATE && !desc_present(&d))
            return desc_error(c, EXC_NP, selector, 0);
        if (type != DESC_TASK_GATE && (selector & 4))
            return desc_error(c, EXC_GP, selector, 0);
        return control_far_task(c, &d, call, type == DESC_TASK_GATE);
    default:
        return desc_error(c, EXC_GP, selector, 0);
    }
}

/* ---- returns ---- */

/* Reads a word of the present stack, `at` bytes above its top. */
static int control_peek(struct cpu *c, unsigned at, unsigned size, uint64_t *v)
{
    return cpu_load(c, SEG_SS, (c->gpr[GPR_RSP] + at) & seg_stack_mask(c, &c->seg[SEG_SS]), size, v);
}

/* The code segment of a return: RPL of the selector is the new CPL. */
static int control_return_cs(struct cpu *c, uint16_t selector, struct desc *d)
{
    unsigned rpl = selector & 3;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, d))
        return CPU_FAULT;
    if (!desc_is_code(d) || rpl < c->cpl || (desc_conforming(d) ? desc_dpl(d) > rpl : desc_dpl(d) != rpl))
        return desc_error(c, EXC_GP, selector, 0);
    if (control_lma(c) && desc_long(d) && desc_db(d))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(d))
        return desc_error(c, EXC_NP, selector, 0);
    return CPU_OK;
}

/* The stack segment of a return to `rpl`. wide: to 64-bit code, where a null selector will do below CPL 3. */
static int control_return_ss(struct cpu *c, uint16_t selector, unsigned rpl, bool wide, struct seg *out)
{
    if (sel_is_null(selector)) {
        if (!wide || rpl == 3 || (selector & 3u) != rpl)
            return cpu_raise_error(c, EXC_GP, 0);
        memset(out, 0, sizeof *out);
        out->selector = selector;
        out->attr = SEG_UNUSABLE | rpl << 5;
        return CPU_OK;
    }
    return seg_fetch_stack(c, selector, rpl, EXC_GP, EXC_SS, 0, out);
}

EMU_PRIV int cpu_far_return(struct cpu *c, unsigned opsize, unsigned release)
{
    uint64_t rip, cs_selector, rsp, ss_selector, mask = seg_stack_mask(c, &c->seg[SEG_SS]);
    struct desc d;
    struct seg cs, ss;
    unsigned rpl;
    bool wide;
    if (control_peek(c, 0, opsize, &rip) || control_peek(c, opsize, opsize, &cs_selector))
        return CPU_FAULT;
    if (c->mode == MODE_REAL || c->mode == MODE_V86) {
        if (rip > c->seg[SEG_CS].limit)
            return cpu_raise_error(c, EXC_GP, 0);
        cpu_set_segment_real(c, SEG_CS, (uint16_t)cs_selector);
        stack_set_rsp(c, &c->seg[SEG_SS], (c->gpr[GPR_RSP] + 2 * opsize + release) & mask);
        c->next_rip = rip;
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (control_return_cs(c, (uint16_t)cs_selector, &d))
        return CPU_FAULT;
    rpl = cs_selector & 3;
    wide = control_lma(c) && desc_long(&d);
    if (rpl == c->cpl) {
        desc_to_seg(&d, (uint16_t)cs_selector, &cs);
        if (control_check_offset(c, &cs, rip) || control_load_cs(c, &d, rpl, &cs))
            return CPU_FAULT;
        stack_set_rsp(c, &c->seg[SEG_SS], c->gpr[GPR_RSP] + 2 * opsize + release);
        control_commit_cs(c, &cs, rpl, rip);
        return CPU_OK;
    }
    if (control_peek(c, 2 * opsize + release, opsize, &rsp) || control_peek(c, 3 * opsize + release, opsize, &ss_selector))
        return CPU_FAULT;
    if (control_return_ss(c, (uint16_t)ss_selector, rpl, wide, &ss))
        return CPU_FAULT;
    desc_to_seg(&d, (uint16_t)cs_selector, &cs);
    if (control_check_offset(c, &cs, rip) || control_load_cs(c, &d, rpl, &cs))
        return CPU_FAULT;
    c->seg[SEG_SS] = ss;
    control_commit_cs(c, &cs, rpl, rip);
    stack_set_rsp(c, &ss, rsp + release);
    seg_drop_inner(c, rpl);
    cpu_update_mode(c);
    return CPU_OK;
}

/* EFLAGS that an IRET at the present CPL may change. */
static uint32_t control_iret_flags(const struct cpu *c, uint32_t value, unsigned opsize)
{
    uint32_t old = cpu_eflags(c), mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    if (opsize > 2)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (c->cpl <= ((old & FLAG_IOPL) >> 12))
        mask |= FLAG_IF;
    if (c->cpl == 0) {
        mask |= FLAG_IOPL;
        if (opsize > 2)
            mask |= FLAG_VIF | FLAG_VIP;
    }
    if (!cpu_has(c, CPU_VME) && !cpu_has(c, CPU_LM))
        mask &= ~(uint32_t)(FLAG_VIF | FLAG_VIP);
    return (old & ~mask) | (value & mask) | 2;
}

static void control_iret_done(struct cpu *c, uint32_t flags)
{
    c->nmi_blocked = false;
    /* RF matters to instruction breakpoints only; without any it is dropped at once, so that nobody need clear it later. */
    if (!(c->mode_key & KEY_DEBUG))
        flags &= ~(uint32_t)FLAG_RF;
    cpu_set_eflags(c, flags);
    cpu_update_mode(c);
}

static int control_iret_real(struct cpu *c, unsigned opsize)
{
    uint64_t rip, cs, fl;
    uint32_t flags, old = cpu_eflags(c), mask;
    bool vme = false;
    if (c->mode == MODE_V86 && (old & FLAG_IOPL) != FLAG_IOPL) {
        if (!(c->cr4 & CR4_VME) || opsize != 2)
            return cpu_raise_error(c, EXC_GP, 0);
        vme = true;
    }
    if (control_peek(c, 0, opsize, &rip) || control_peek(c, opsize, opsize, &cs) || control_peek(c, 2 * opsize, opsize, &fl))
        return CPU_FAULT;
    if (rip > c->seg[SEG_CS].limit)
        return cpu_raise_error(c, EXC_GP, 0);
    flags = (uint32_t)fl;
    if (vme) { /* SDM 3B 20.3.3.5: the program's IF is VIF */
        if ((flags & FLAG_TF) || ((old & FLAG_VIP) && (flags & FLAG_IF)))
            return cpu_raise_error(c, EXC_GP, 0);
        mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
        flags = (old & ~mask & ~(uint32_t)FLAG_VIF) | (flags & mask) | (flags & FLAG_IF ? FLAG_VIF : 0);
    } else {
        mask = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT | (c->mode == MODE_REAL ? FLAG_IOPL : 0);
        if (opsize == 4)
            mask |= FLAG_RF | FLAG_AC | FLAG_ID;
        flags = (old & ~mask) | (flags & mask);
    }
    cpu_set_segment_real(c, SEG_CS, (uint16_t)cs);
    stack_set_rsp(c, &c->seg[SEG_SS], c->gpr[GPR_RSP] + 3 * opsize);
    c->next_rip = rip;
    control_iret_done(c, flags | 2);
    return CPU_OK;
}

static int control_iret_v86(struct cpu *c, uint64_t rip, uint16_t cs, uint32_t flags)
{
    uint64_t rsp, sel[5]; /* SS ES DS FS GS */
    unsigned k;
    static const uint8_t which[5] = { SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    if (control_peek(c, 12, 4, &rsp))
        return CPU_FAULT;
    for (k = 0; k < 5; k++)
        if (control_peek(c, 16 + 4 * k, 4, &sel[k]))
            return CPU_FAULT;
    c->nmi_blocked = false;
    c->cpl = 3;
    if (!(c->mode_key & KEY_DEBUG))
        flags &= ~(uint32_t)FLAG_RF;
    cpu_set_eflags(c, (flags & 0x003F7FD7u) | 2);
    cpu_set_segment_real(c, SEG_CS, cs);
    for (k = 0; k < 5; k++)
        cpu_set_segment_real(c, which[k], (uint16_t)sel[k]);
    c->gpr[GPR_RSP] = rsp & 0xFFFFFFFFu;
    c->next_rip = rip & 0xFFFF;
    cpu_update_mode(c);
    return CPU_OK;
}

static int control_iret_task(struct cpu *c)
{
    uint64_t link;
    struct desc d;
    if (control_lma(c))
        return cpu_raise_error(c, EXC_GP, 0);
    if (cpu_load_linear(c, c->seg[SEG_TR].base, 2, &link, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if (sel_is_null((uint16_t)link) || (link & 4))
        return desc_error(c, EXC_TS, (uint16_t)link, 0);
    if (desc_fetch(c, (uint16_t)link, EXC_TS, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || (desc_type(&d) != DESC_TSS16_BUSY && desc_type(&d) != DESC_TSS32_BUSY))
        return desc_error(c, EXC_TS, (uint16_t)link, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, (uint16_t)link, 0);
    return task_switch(c, &d, TASK_IRET, false, 0, c->next_rip, 0);
}

EMU_PRIV int cpu_iret(struct cpu *c, unsigned opsize)
{
    uint64_t rip, cs_selector, fl, rsp = 0, ss_selector = 0;
    struct desc d;
    struct seg cs, ss;
    unsigned rpl;
    uint32_t flags;
    bool wide, with_stack;
    if (c->mode == MODE_REAL || c->mode == MODE_V86)
        return control_iret_real(c, opsize);
    if (c->eflags & FLAG_NT)
        return control_iret_task(c);
    if (control_peek(c, 0, opsize, &rip) || control_peek(c, opsize, opsize, &cs_selector) || control_peek(c, 2 * opsize, opsize, &fl))
        return CPU_FAULT;
    if (!control_lma(c) && opsize == 4 && (fl & FLAG_VM) && c->cpl == 0)
        return control_iret_v86(c, rip, (uint16_t)cs_selector, (uint32_t)fl);
    if (control_return_cs(c, (uint16_t)cs_selector, &d))
        return CPU_FAULT;
    rpl = cs_selector & 3;
    wide = control_lma(c) && desc_long(&d);
    with_stack = c->mode == MODE_LONG || rpl != c->cpl;
    if (with_stack) {
        if (control_peek(c, 3 * opsize, opsize, &rsp) || control_peek(c, 4 * opsize, opsize, &ss_selector))
            return CPU_FAULT;
        if (control_return_ss(c, (uint16_t)ss_selector, rpl, wide, &ss))
            return CPU_FAULT;
    }
    desc_to_seg(&d, (uint16_t)cs_selector, &cs);
    if (control_check_offset(c, &cs, rip) || control_load_cs(c, &d, rpl, &cs))
        return CPU_FAULT;
    flags = control_iret_flags(c, (uint32_t)fl, opsize);
    if (with_stack) {
        bool outward = rpl != c->cpl;
        c->seg[SEG_SS] = ss;
        control_commit_cs(c, &cs, rpl, rip);
        stack_set_rsp(c, &ss, rsp);
        if (outward)
            seg_drop_inner(c, rpl);
    } else {
        stack_set_rsp(c, &c->seg[SEG_SS], c->gpr[GPR_RSP] + 3 * opsize);
        control_commit_cs(c, &cs, rpl, rip);
    }
    control_iret_done(c, flags);
    return CPU_OK;
}

/* ---- fast system calls: flat segments by decree, descriptors are not read ---- */

static void control_flat_segment(struct cpu *c, unsigned seg, uint16_t selector, unsigned dpl, bool wide)
{
    struct seg *s = &c->seg[seg];
    s->selector = selector;
    s->base = 0;
    s->limit = 0xFFFFFFFFu;
    s->attr = SEG_G | SEG_P | SEG_S | SEG_WRITE_READ | SEG_ACCESSED | dpl << 5;
    if (seg == SEG_CS)
        s->attr |= SEG_CODE | (wide ? SEG_L : SEG_DB);
    else
        s->attr |= SEG_DB;
}

/* AMD's models have SYSCALL outside of 64-bit mode too (APM vol. 3 SYSCALL), and there no SYSENTER in long mode. */
static bool control_is_amd(const struct cpu *c) { return c->vendor[0] == 'A'; }

EMU_PRIV int cpu_syscall(struct cpu *c)
{
    uint32_t flags = cpu_eflags(c);
    uint16_t cs = (uint16_t)(c->star >> 32) & 0xFFFC;
    bool lma = control_lma(c);
    if (!(c->efer & EFER_SCE) || (c->mode != MODE_LONG && (!control_is_amd(c) || c->mode == MODE_REAL || c->mode == MODE_V86)))
        return cpu_raise(c, EXC_UD);
    c->gpr[GPR_RCX] = lma ? c->next_rip : (uint32_t)c->next_rip;
    if (lma) {
        c->gpr[GPR_R11] = flags & ~(uint32_t)FLAG_RF;
        c->next_rip = c->mode == MODE_LONG ? c->lstar : c->cstar;
        flags &= ~(uint32_t)c->fmask;
    } else {
        c->next_rip = (uint32_t)c->star;
        flags &= ~(uint32_t)FLAG_IF;
    }
    c->cpl = 0;
    control_flat_segment(c, SEG_CS, cs, 0, lma);
    control_flat_segment(c, SEG_SS, (uint16_t)(cs + 8), 0, false);
    cpu_set_eflags(c, (flags & ~(uint32_t)(FLAG_RF | FLAG_VM)) | 2);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int cpu_sysret(struct cpu *c, unsigned opsize)
{
    uint16_t base = (uint16_t)(c->star >> 48);
    uint32_t flags = ((uint32_t)c->gpr[GPR_R11] & 0x003C7FD7u) | 2;
    bool wide = opsize == 8;
    if (!(c->efer & EFER_SCE) || (c->mode != MODE_LONG && (!control_is_amd(c) || c->mode == MODE_REAL || c->mode == MODE_V86)))
        return cpu_raise(c, EXC_UD);
    if (c->cpl != 0 || (wide && !cpu_canonical(c, c->gpr[GPR_RCX])))
        return cpu_raise_error(c, EXC_GP, 0);
    if (!control_lma(c))
        flags = cpu_eflags(c) | FLAG_IF;
    c->next_rip = wide ? c->gpr[GPR_RCX] : (uint32_t)c->gpr[GPR_RCX];
    c->cpl = 3;
    control_flat_segment(c, SEG_CS, (uint16_t)((base + (wide ? 16 : 0)) | 3), 3, wide);
    control_flat_segment(c, SEG_SS, (uint16_t)((base + 8) | 3), 3, false);
    cpu_set_eflags(c, flags);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int cpu_sysenter(struct cpu *c)
{
    bool lma = control_lma(c);
    uint16_t cs = (uint16_t)c->sysenter_cs & 0xFFFC;
    if (lma && control_is_amd(c))
        return cpu_raise(c, EXC_UD);
    if (c->mode == MODE_REAL || sel_is_null(cs))
        return cpu_raise_error(c, EXC_GP, 0);
    cpu_set_eflags(c, cpu_eflags(c) & ~(uint32_t)(FLAG_VM | FLAG_IF | FLAG_RF));
    c->gpr[GPR_RSP] = lma ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
    c->next_rip = lma ? c->sysenter_eip : (uint32_t)c->sysenter_eip;
    c->cpl = 0;
    control_flat_segment(c, SEG_CS, cs, 0, lma);
    control_flat_segment(c, SEG_SS, (uint16_t)(cs + 8), 0, false);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int cpu_sysexit(struct cpu *c, unsigned opsize)
{
    uint16_t cs = (uint16_t)c->sysenter_cs & 0xFFFC;
    bool wide = opsize == 8 && control_lma(c);
    if (c->mode == MODE_REAL || sel_is_null(cs) || c->cpl != 0)
        return cpu_raise_error(c, EXC_GP, 0);
    if (wide && (!cpu_canonical(c, c->gpr[GPR_RCX]) || !cpu_canonical(c, c->gpr[GPR_RDX])))
        return cpu_raise_error(c, EXC_GP, 0);
    c->gpr[GPR_RSP] = wide ? c->gpr[GPR_RCX] : (uint32_t)c->gpr[GPR_RCX];
    c->next_rip = wide ? c->gpr[GPR_RDX] : (uint32_t)c->gpr[GPR_RDX];
    c->cpl = 3;
    control_flat_segment(c, SEG_CS, (uint16_t)((cs + (wide ? 32 : 16)) | 3), 3, wide);
    control_flat_segment(c, SEG_SS, (uint16_t)((cs + (wide ? 40 : 24)) | 3), 3, false);
    cpu_update_mode(c);
    return CPU_OK;
}
