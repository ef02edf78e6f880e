/* cpu/segment.c - segment registers, descriptors, the stack.
 *
 * Models     Intel SDM vol. 3 chapter 3.4-3.5 and 5; instruction pages of MOV Sreg, LLDT, LTR, LAR, LSL, VERR, VERW, ARPL.
 * Contract   desc.h and cpu.h list what others call. Order of checks follows the operation sections of the instruction pages.
 * Invariants 1. A load that faults leaves the register as it was.
 *            2. The accessed bit is written to memory before the register changes (the write may fault).
 *            3. A null selector leaves SEG_UNUSABLE: outside of 64-bit mode every access through it faults in cpu_linear().
 */
#include "../machine.h"
#include "cpu.h"
#include "desc.h"

EMU_PRIV int desc_error(struct cpu *c, unsigned vector, uint16_t selector, unsigned ext)
{
    return cpu_raise_error(c, vector, (selector & 0xFFFCu) | ext);
}

EMU_PRIV int desc_find(struct cpu *c, uint16_t selector, struct desc *d)
{
    uint64_t base, limit, v;
    if (selector & 4) {
        if (c->seg[SEG_LDTR].attr & SEG_UNUSABLE)
            return 1;
        base = c->seg[SEG_LDTR].base;
        limit = c->seg[SEG_LDTR].limit;
    } else {
        base = c->gdtr.base;
        limit = c->gdtr.limit;
    }
    if ((selector | 7u) > limit)
        return 1;
    d->selector = selector;
    d->va = base + (selector & 0xFFF8u);
    d->upper = 0;
    if (cpu_load_linear(c, d->va, 8, &v, ACCESS_READ | ACCESS_SYSTEM))
        return -1;
    d->low = (uint32_t)v;
    d->high = (uint32_t)(v >> 32);
    return 0;
}

EMU_PRIV int desc_fetch(struct cpu *c, uint16_t selector, unsigned vector, unsigned ext, struct desc *d)
{
    int r = desc_find(c, selector, d);
    if (r > 0)
        return desc_error(c, vector, selector, ext);
    return r ? CPU_FAULT : CPU_OK;
}

EMU_PRIV int desc_load_upper(struct cpu *c, struct desc *d, unsigned ext)
{
    uint64_t limit = d->selector & 4 ? c->seg[SEG_LDTR].limit : c->gdtr.limit;
    if ((d->selector | 7u) + 8u > limit)
        return desc_error(c, EXC_GP, d->selector, ext);
    if (cpu_load_linear(c, d->va + 8, 8, &d->upper, ACCESS_READ | ACCESS_SYSTEM))
        return CPU_FAULT;
    if ((d->upper >> 40) & 0x1F) /* the type field of the upper half must be 0 (SDM 3A figure 5-8) */
        return desc_error(c, EXC_GP, d->selector, ext);
    return CPU_OK;
}

EMU_PRIV void desc_to_seg(const struct desc *d, uint16_t selector, struct seg *s)
{
    s->selector = selector;
    s->attr = (d->high >> 8) & 0xF0FF;
    s->limit = (d->low & 0xFFFF) | (d->high & 0xF0000);
    if (s->attr & SEG_G)
        s->limit = (s->limit << 12) | 0xFFF;
    s->base = ((d->low >> 16) | ((d->high & 0xFF) << 16) | (d->high & 0xFF000000u)) | (d->upper << 32);
}

EMU_PRIV int desc_set_type_bits(struct cpu *c, struct desc *d, unsigned set, unsigned clear)
{
    uint32_t high = (d->high | (set << 8)) & ~(clear << 8);
    if (high == d->high)
        return CPU_OK;
    if (cpu_store_linear(c, d->va + 5, 1, (high >> 8) & 0xFF, ACCESS_WRITE | ACCESS_SYSTEM))
        return CPU_FAULT;
    d->high = high;
    return CPU_OK;
}

EMU_PRIV void seg_set_null(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct seg *s = &c->seg[seg];
    s->selector = selector;
    s->base = 0;
    s->limit = 0;
    s->attr = SEG_UNUSABLE;
    if (seg == SEG_SS)
        s->attr |= (uint32_t)c->cpl << 5;
}

EMU_PRIV void cpu_set_segment_real(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct seg *s = &c->seg[seg];
    s->selector = selector;
    s->base = (uint32_t)selector << 4;
    if (c->mode == MODE_V86 || (c->eflags & FLAG_VM)) {
        s->limit = 0xFFFF;
        s->attr = SEG_P | SEG_DPL | SEG_S | SEG_WRITE_READ | SEG_ACCESSED;
    } else if (s->attr & SEG_UNUSABLE) {
        s->attr = SEG_P | SEG_S | SEG_WRITE_READ | SEG_ACCESSED; /* real mode entered with a null selector: limit stays */
    }
}

static int segment_load_ss(struct cpu *c, uint16_t selector)
{
    struct desc d;
    if (sel_is_null(selector)) {
        if (c->mode != MODE_LONG || c->cpl == 3 || (selector & 3) != c->cpl)
            return cpu_raise_error(c, EXC_GP, 0);
        seg_set_null(c, SEG_SS, selector);
        return CPU_OK;
    }
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if ((selector & 3) != c->cpl || desc_dpl(&d) != c->cpl || !desc_is_segment(&d) || (desc_type(&d) & (SEG_CODE | SEG_WRITE_READ)) != SEG_WRITE_READ)
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_SS, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_SS]);
    return CPU_OK;
}

EMU_PRIV int cpu_load_segment(struct cpu *c, unsigned seg, uint16_t selector)
{
    struct desc d;
    unsigned type, rpl = selector & 3;
    if (c->mode == MODE_REAL || c->mode == MODE_V86) {
        cpu_set_segment_real(c, seg, selector);
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (seg == SEG_SS) {
        if (segment_load_ss(c, selector))
            return CPU_FAULT;
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (sel_is_null(selector)) {
        seg_set_null(c, seg, selector);
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    type = desc_type(&d);
    if (!desc_is_segment(&d) || (type & (SEG_CODE | SEG_WRITE_READ)) == SEG_CODE)
        return desc_error(c, EXC_GP, selector, 0);
    if ((type & (SEG_CODE | SEG_DOWN_CONFORM)) != (SEG_CODE | SEG_DOWN_CONFORM) && (rpl > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[seg]);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV void seg_drop_inner(struct cpu *c, unsigned new_cpl)
{
    static const uint8_t which[4] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    unsigned k;
    for (k = 0; k < 4; k++) {
        const struct seg *s = &c->seg[which[k]];
        if (s->attr & SEG_UNUSABLE)
            continue;
        if ((s->attr & (SEG_CODE | SEG_DOWN_CONFORM)) == (SEG_CODE | SEG_DOWN_CONFORM))
            continue;
        if (((s->attr & SEG_DPL) >> 5) < new_cpl)
            seg_set_null(c, which[k], 0);
    }
}

EMU_PRIV int seg_fetch_stack(struct cpu *c, uint16_t selector, unsigned cpl, unsigned vector, unsigned np_vector, unsigned ext, struct seg *out)
{
    struct desc d;
    if (sel_is_null(selector))
        return cpu_raise_error(c, vector, ext);
    if (desc_fetch(c, selector, vector, ext, &d))
        return CPU_FAULT;
    if ((selector & 3u) != cpl || desc_dpl(&d) != cpl || !desc_is_segment(&d) || (desc_type(&d) & (SEG_CODE | SEG_WRITE_READ)) != SEG_WRITE_READ)
        return desc_error(c, vector, selector, ext);
    if (!desc_present(&d))
        return desc_error(c, np_vector, selector, ext);
    if (desc_set_type_bits(c, &d, SEG_ACCESSED, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, out);
    return CPU_OK;
}

/* vector: EXC_GP for LLDT, EXC_TS in a task switch. */
EMU_PRIV int desc_load_ldtr(struct cpu *c, uint16_t selector, unsigned vector)
{
    struct desc d;
    if (sel_is_null(selector)) {
        seg_set_null(c, SEG_LDTR, selector);
        cpu_update_mode(c);
        return CPU_OK;
    }
    if (selector & 4)
        return desc_error(c, vector, selector, 0);
    if (desc_fetch(c, selector, vector, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || desc_type(&d) != DESC_LDT)
        return desc_error(c, vector, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, vector == EXC_TS ? EXC_TS : EXC_NP, selector, 0);
    if ((c->efer & EFER_LMA) && desc_load_upper(c, &d, 0))
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_LDTR]);
    cpu_update_mode(c);
    return CPU_OK;
}

EMU_PRIV int desc_load_tr(struct cpu *c, uint16_t selector)
{
    struct desc d;
    bool lma = (c->efer & EFER_LMA) != 0;
    if (sel_is_null(selector))
        return cpu_raise_error(c, EXC_GP, 0);
    if (selector & 4)
        return desc_error(c, EXC_GP, selector, 0);
    if (desc_fetch(c, selector, EXC_GP, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(&d) || (desc_type(&d) != DESC_TSS32 && (lma || desc_type(&d) != DESC_TSS16)))
        return desc_error(c, EXC_GP, selector, 0);
    if (!desc_present(&d))
        return desc_error(c, EXC_NP, selector, 0);
    if (lma && desc_load_upper(c, &d, 0))
        return CPU_FAULT;
    if (desc_set_type_bits(c, &d, 2, 0)) /* busy */
        return CPU_FAULT;
    desc_to_seg(&d, selector, &c->seg[SEG_TR]);
    cpu_update_mode(c);
    return CPU_OK;
}

/* ---- stack ---- */

EMU_PRIV uint64_t seg_stack_mask(const struct cpu *c, const struct seg *ss)
{
    if (c->mode == MODE_LONG)
        return UINT64_MAX;
    return ss->attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu;
}

EMU_PRIV void stack_set_rsp(struct cpu *c, const struct seg *ss, uint64_t rsp)
{
    uint64_t mask = seg_stack_mask(c, ss);
    if (mask == 0xFFFF)
        cpu_put16(c, GPR_RSP, (uint16_t)rsp);
    else
        c->gpr[GPR_RSP] = rsp & mask;
}

EMU_PRIV int cpu_push(struct cpu *c, uint64_t value, unsigned size)
{
    uint64_t offset = (c->gpr[GPR_RSP] - size) & seg_stack_mask(c, &c->seg[SEG_SS]);
    if (cpu_store(c, SEG_SS, offset, size, value))
        return CPU_FAULT;
    stack_set_rsp(c, &c->seg[SEG_SS], offset);
    return CPU_OK;
}

EMU_PRIV int cpu_pop(struct cpu *c, uint64_t *value, unsigned size)
{
    uint64_t mask = seg_stack_mask(c, &c->seg[SEG_SS]), offset = c->gpr[GPR_RSP] & mask;
    if (cpu_load(c, SEG_SS, offset, size, value))
        return CPU_FAULT;
    stack_set_rsp(c, &c->seg[SEG_SS], (offset + size) & mask);
    return CPU_OK;
}

EMU_PRIV int stack_push(struct cpu *c, struct stack *s, uint64_t value, unsigned size)
{
    uint64_t mask = s->wide ? UINT64_MAX : s->ss.attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu, offset = (s->rsp - size) & mask, va = offset, last;
    if (s->wide) {
        if (!cpu_canonical(c, va) || !cpu_canonical(c, va + size - 1))
            return cpu_raise_error(c, EXC_SS, s->error);
    } else {
        last = offset + size - 1;
        if (s->ss.attr & SEG_DOWN_CONFORM) {
            if (offset <= s->ss.limit || last > (s->ss.attr & SEG_DB ? 0xFFFFFFFFu : 0xFFFFu))
                return cpu_raise_error(c, EXC_SS, s->error);
        } else if (last > s->ss.limit) {
            return cpu_raise_error(c, EXC_SS, s->error);
        }
        va = (s->ss.base + offset) & 0xFFFFFFFFu;
    }
    if (cpu_store_linear(c, va, size, value, ACCESS_WRITE | s->access))
        return CPU_FAULT;
    s->rsp = (s->rsp & ~mask) | offset;
    return CPU_OK;
}
