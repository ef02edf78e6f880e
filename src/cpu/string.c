/* cpu/string.c - MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS with their repeat prefixes.
 *
 * Models     SDM vol. 2B REP, MOVS ..., OUTS.
 * Contract   string_run() is the plain-C body of all of them (rows in table.c); uop_string_element() the handler of the common single ones,
 *            uop_string_repeat() of common repetitions.
 * Theory     Elements are moved one by one through cpu_load()/cpu_store(), but stretches that lie in plain pages on both sides go by
 *            host pointer. A long repetition is cut: the function returns with next_rip at the instruction itself, registers telling how
 *            far it is, so that interrupts get in (SDM 2B REP: "the repeat can be interrupted").
 * Invariants 1. RCX, RSI and RDI are exact after every element that was done; a fault leaves them at the element that failed.
 *            2. Under TF one element is done a time.
 *            3. uop_string_element() and uop_string_repeat() change nothing before they are sure of both addresses, so that the slow way can take over.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

enum { STRING_SLICE_BYTES = 1 << 16, STRING_PAGE = 4096, STRING_SHORT = 32 /* elements: no call of memset() */ };

struct string_state {
    unsigned size, asize;
    uint64_t amask;
    int64_t step;
    unsigned seg;
};

static void string_advance(struct cpu *c, const struct string_state *s, unsigned reg, uint64_t elements)
{
    uint64_t v = c->gpr[reg] + (uint64_t)s->step * elements;
    cpu_put(c, reg, v, s->asize);
}

static uint64_t string_offset(const struct cpu *c, const struct string_state *s, unsigned reg)
{
    return c->gpr[reg] & s->amask;
}

/* Host pointer to up to *n elements at seg:reg that lie in one plain page, or NULL; *n is cut. With a negative step the pointer is to the
 * first (highest) element. */
static uint8_t *string_span(struct cpu *c, const struct string_state *s, unsigned seg, unsigned reg, unsigned access, uint64_t *n)
{
    uint64_t offset = string_offset(c, s, reg), va, room, low;
    uint8_t *p;
    if (cpu_linear(c, seg, offset, s->size, access, &va))
        return NULL;
    if (s->step > 0) {
        room = (STRING_PAGE - (va & (STRING_PAGE - 1))) / s->size;
        low = (s->amask - offset) / s->size; /* stay clear of the wrap */
        if (room > low)
            room = low;
        if (*n > room)
            *n = room;
        if (*n < 2 || cpu_linear(c, seg, offset, (unsigned)(*n * s->size), access, &va))
            return NULL;
        return tlb_host(c, va, (unsigned)(*n * s->size), access);
    }
    if ((va & (STRING_PAGE - 1)) + s->size > STRING_PAGE)
        return NULL;
    room = (va & (STRING_PAGE - 1)) / s->size + 1;
    low = offset / s->size;
    if (room > low)
        room = low;
    if (*n > room)
        *n = room;
    if (*n < 2)
        return NULL;
    low = (*n - 1) * s->size;
    if (cpu_linear(c, seg, offset - low, (unsigned)(*n * s->size), access, &va))
        return NULL;
    p = tlb_host(c, va, (unsigned)(*n * s->size), access);
    return p ? p + low : NULL;
}

static void string_copy(uint8_t *to, const uint8_t *from, uint64_t n, unsigned size, bool forward)
{
    uintptr_t t = (uintptr_t)to, f = (uintptr_t)from;
    uint64_t bytes = n * size;
    if (forward) {
        if (t - f >= bytes || t == f) {
            memmove(to, from, (size_t)bytes);
            return;
        }
        while (n--) { /* the source grows out of what was just written */
            stn_le(to, ldn_le(from, size), size);
            to += size;
            from += size;
        }
        return;
    }
    if (f - t >= bytes || t == f) {
        memmove(to - (bytes - size), from - (bytes - size), (size_t)bytes);
        return;
    }
    for (;;) {
        stn_le(to, ldn_le(from, size), size);
        if (--n == 0)
            return;
        to -= size;
        from -= size;
    }
}

static void string_fill(uint8_t *p, uint64_t v, uint64_t n, unsigned size, bool forward)
{
    uint64_t k;
    if (!forward)
        p -= (n - 1) * size;
    if (size == 1) {
        memset(p, (int)(v & 0xFF), (size_t)n);
        return;
    }
    if ((v == 0 && size) || (v == UINT64_MAX && size == 8)) {
        memset(p, v ? 0xFF : 0, (size_t)(n * size));
        return;
    }
    for (k = 0; k < n; k++)
        stn_le(p + k * size, v, size);
}

static void string_compare_flags(struct cpu *c, unsigned size, uint64_t d, uint64_t s)
{
    c->flag_kind = FLAGK_SUB | (size == 8 ? 3u : size >> 1);
    c->flag_result = (uint64_t)sext64(d - s, 8 * size);
    c->flag_source = s;
}

/* One element, the slow way. */
static int string_element(struct cpu *c, const struct insn *i, const struct string_state *s)
{
    unsigned size = s->size;
    uint64_t v = 0, w = 0, si = string_offset(c, s, GPR_RSI), di = string_offset(c, s, GPR_RDI);
    uint16_t port = (uint16_t)c->gpr[GPR_RDX];
    switch (i->opcode & 0xFE) {
    case 0xA4: /* MOVS */
        if (cpu_load(c, s->seg, si, size, &v) || cpu_store(c, SEG_ES, di, size, v))
            return CPU_FAULT;
        string_advance(c, s, GPR_RSI, 1);
        string_advance(c, s, GPR_RDI, 1);
        return CPU_OK;
    case 0xA6: /* CMPS */
        if (cpu_load(c, s->seg, si, size, &v) || cpu_load(c, SEG_ES, di, size, &w))
            return CPU_FAULT;
        string_compare_flags(c, size, v, w);
        string_advance(c, s, GPR_RSI, 1);
        string_advance(c, s, GPR_RDI, 1);
        return CPU_OK;
    case 0xAA: /* STOS */
        if (cpu_store(c, SEG_ES, di, size, c->gpr[GPR_RAX]))
            return CPU_FAULT;
        string_advance(c, s, GPR_RDI, 1);
        return CPU_OK;
    case 0xAC: /* LODS */
        if (cpu_load(c, s->seg, si, size, &v))
            return CPU_FAULT;
        if (size == 1)
            cpu_put8(c, GPR_RAX, false, (uint8_t)v);
        else
            cpu_put(c, GPR_RAX, v, size);
        string_advance(c, s, GPR_RSI, 1);
        return CPU_OK;
    case 0xAE: /* SCAS */
        if (cpu_load(c, SEG_ES, di, size, &w))
            return CPU_FAULT;
        string_compare_flags(c, size, cpu_get(c, GPR_RAX, size), w);
        string_advance(c, s, GPR_RDI, 1);
        return CPU_OK;
    case 0x6C: /* INS: nothing is read from the device if the store would fault */
        if (cpu_check_store(c, SEG_ES, di, size))
            return CPU_FAULT;
        cpu_check_io_breakpoint(c, port, size);
        if (cpu_store(c, SEG_ES, di, size, port_read(c->emu, port, size)))
            return CPU_FAULT;
        string_advance(c, s, GPR_RDI, 1);
        return CPU_OK;
    default: /* OUTS */
        if (cpu_load(c, s->seg, si, size, &v))
            return CPU_FAULT;
        cpu_check_io_breakpoint(c, port, size);
        string_advance(c, s, GPR_RSI, 1);
        port_write(c->emu, port, v, size);
        return CPU_OK;
    }
}

/* As many elements as one stretch holds, by host pointer; 0: none. *stop: a compare ended the repetition. */
static uint64_t string_stretch(struct cpu *c, const struct insn *i, const struct string_state *s, uint64_t n, bool *stop)
{
    bool forward = s->step > 0;
    uint8_t *from, *to;
    uint64_t k, v, w = 0;
    unsigned size = s->size;
    switch (i->opcode & 0xFE) {
    case 0xA4:
        from = string_span(c, s, s->seg, GPR_RSI, ACCESS_READ, &n);
        to = from ? string_span(c, s, SEG_ES, GPR_RDI, ACCESS_WRITE, &n) : NULL;
        if (!to)
            return 0;
        if (!forward) /* n may have been cut after the first pointer: both point to the highest element */
            string_copy(to, from, n, size, false);
        else
            string_copy(to, from, n, size, true);
        string_advance(c, s, GPR_RSI, n);
        string_advance(c, s, GPR_RDI, n);
        return n;
    case 0xAA:
        to = string_span(c, s, SEG_ES, GPR_RDI, ACCESS_WRITE, &n);
        if (!to)
            return 0;
        string_fill(to, cpu_get(c, GPR_RAX, size), n, size, forward);
        string_advance(c, s, GPR_RDI, n);
        return n;
    case 0xAE:
        to = string_span(c, s, SEG_ES, GPR_RDI, ACCESS_READ, &n);
        if (!to)
            return 0;
        v = cpu_get(c, GPR_RAX, size);
        for (k = 0; k < n && !*stop; k++, to += s->step) {
            w = ldn_le(to, size);
            *stop = (v == w) == ((i->prefixes & INSN_REPNE) != 0);
        }
        string_compare_flags(c, size, v, w);
        string_advance(c, s, GPR_RDI, k);
        return k;
    case 0xA6:
        from = string_span(c, s, s->seg, GPR_RSI, ACCESS_READ, &n);
        to = from ? string_span(c, s, SEG_ES, GPR_RDI, ACCESS_READ, &n) : NULL;
        if (!to)
            return 0;
        v = 0;
        for (k = 0; k < n && !*stop; k++, to += s->step, from += s->step) {
            v = ldn_le(from, size);
            w = ldn_le(to, size);
            *stop = (v == w) == ((i->prefixes & INSN_REPNE) != 0);
        }
        string_compare_flags(c, size, v, w);
        string_advance(c, s, GPR_RSI, k);
        string_advance(c, s, GPR_RDI, k);
        return k;
    default: return 0;
    }
}

EMU_PRIV int string_run(struct cpu *c, const struct insn *i)
{
    struct string_state s;
    uint64_t n, done = 0, limit;
    uint32_t flags;
    bool compares = (i->opcode & 0xFE) == 0xA6 || (i->opcode & 0xFE) == 0xAE, io = (i->opcode & 0xFC) == 0x6C, stop = false;
    s.size = i->opcode & 1 ? i->opsize : 1;
    if (io && s.size == 8)
        s.size = 4;
    s.asize = i->addrsize;
    s.amask = s.asize == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * s.asize)) - 1;
    s.step = c->eflags & FLAG_DF ? -(int64_t)s.size : (int64_t)s.size;
    s.seg = i->seg;
    if (!(i->prefixes & (INSN_REP | INSN_REPNE)))
        return io && cpu_check_io(c, (uint16_t)c->gpr[GPR_RDX], s.size) ? CPU_FAULT : string_element(c, i, &s);
    n = c->gpr[GPR_RCX] & s.amask;
    if (n == 0)
        return CPU_OK;
    if (io && cpu_check_io(c, (uint16_t)c->gpr[GPR_RDX], s.size))
        return CPU_FAULT;
    limit = c->eflags & FLAG_TF || c->mode_key & KEY_DEBUG ? 1 : STRING_SLICE_BYTES / s.size;
    flags = compares ? cpu_arith_flags(c) : 0;
    while (n && done < limit && !stop) {
        uint64_t k = limit > 1 && n > 1 && !io ? string_stretch(c, i, &s, EMU_MIN(n, limit - done), &stop) : 0;
        if (k == 0) {
            if (string_element(c, i, &s)) {
                if (compares && done) /* hardware shows the flags of before the instruction (tests/cpu_diff.c) */
                    cpu_set_arith_flags(c, flags);
                return CPU_FAULT;
            }
            if (compares)
                stop = (c->flag_result == 0) == ((i->prefixes & INSN_REPNE) != 0);
            k = 1;
            if (io && c->budget < 0) /* an interrupt waits */
                limit = 0;
        }
        n -= k;
        done += k;
        cpu_put(c, GPR_RCX, n, s.asize);
    }
    if (n && !stop) {
        c->next_rip = c->rip; /* the rest when interrupts have had their turn */
        if (c->mode_key & KEY_DEBUG)
            c->eflags |= FLAG_RF; /* its breakpoint has been reported: RF is cleared at the end only (SDM 3B 17.3.1.1) */
    }
    return CPU_OK;
}

/* MOVS, STOS or LODS without a prefix where the segments are flat (trace_plain_string()): by host pointer. DF, I/O, code pages and faults go
 * the slow way before anything was done. u->a: low opcode byte without its size bit; u->misc: bytes of the element; u->scale: of the address. */
UOP_FN_PRIV(uop_string_element)
{
    uint64_t mask = u->scale == 8 ? UINT64_MAX : 0xFFFFFFFFu, si, di;
    unsigned size = u->misc;
    const uint8_t *from = NULL;
    uint8_t *to = NULL;
    UOP_SPILL;
    si = c->gpr[GPR_RSI] & mask;
    di = c->gpr[GPR_RDI] & mask;
    if (EMU_UNLIKELY(c->eflags & FLAG_DF))
        UOP_TAIL(uop_call);
    if (u->a != 0xAA && (!cpu_canonical(c, si) || !(from = tlb_host(c, si, size, ACCESS_READ))))
        UOP_TAIL(uop_call);
    if (u->a != 0xAC && (!cpu_canonical(c, di) || !(to = tlb_host(c, di, size, ACCESS_WRITE))))
        UOP_TAIL(uop_call);
    if (u->a == 0xAC) {
        if (size == 1)
            cpu_put8(c, GPR_RAX, false, *from);
        else
            cpu_put(c, GPR_RAX, ldn_le(from, size), size);
    } else {
        stn_le(to, from ? ldn_le(from, size) : c->gpr[GPR_RAX], size);
        c->gpr[GPR_RDI] = (di + size) & mask;
    }
    if (from)
        c->gpr[GPR_RSI] = (si + size) & mask;
    UOP_RELOAD;
    UOP_LATE(1);
}

/* REP MOVS or REP STOS in 64-bit mode (trace_plain_string()), all of it, where each operand lies within one page; else as uop_string_element(). */
UOP_FN_PRIV(uop_string_repeat)
{
    unsigned size = u->misc, k;
    uint64_t n, bytes, si, di;
    const uint8_t *from = NULL;
    uint8_t *to;
    UOP_SPILL;
    n = c->gpr[GPR_RCX];
    if (n == 0)
        UOP_LATE(1);
    if (EMU_UNLIKELY(n > STRING_PAGE / size || (c->eflags & FLAG_DF)))
        UOP_TAIL(uop_call);
    bytes = n * size;
    si = c->gpr[GPR_RSI];
    di = c->gpr[GPR_RDI];
    if (u->a == 0xA4 && (!cpu_canonical(c, si) || !(from = tlb_host(c, si, (unsigned)bytes, ACCESS_READ))))
        UOP_TAIL(uop_call);
    if (!cpu_canonical(c, di) || !(to = tlb_host(c, di, (unsigned)bytes, ACCESS_WRITE)))
        UOP_TAIL(uop_call);
    if (from) {
        string_copy(to, from, n, size, true);
        c->gpr[GPR_RSI] = si + bytes;
    } else if (size == 8 && n <= STRING_SHORT) {
        for (k = 0; k < n; k++)
            st64le(to + 8 * k, c->gpr[GPR_RAX]);
    } else {
        string_fill(to, cpu_get(c, GPR_RAX, size), n, size, true);
    }
    c->gpr[GPR_RDI] = di + bytes;
    c->gpr[GPR_RCX] = 0;
    UOP_RELOAD;
    UOP_LATE(1);
}
