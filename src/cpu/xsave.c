/* cpu/xsave.c - FXSAVE, the XSAVE family, XCR0.
 *
 * Models     Intel SDM vol. 1 chapter 13 (XSAVE feature set) and 10.5.1 (FXSAVE image); vol. 2 pages of the instructions.
 * Contract   Bodies of rows in system.c. The 512-byte legacy image is packed and unpacked by x87_pack_fxsave()/x87_unpack_fxsave().
 * Theory     State components 0 x87, 1 SSE, 2 AVX (upper halves), 9 PKRU. XINUSE is computed from the registers, so that the
 *            header does not depend on history. An image is built in a local buffer, then stored; loads are checked first, then taken.
 * Invariants 1. Bytes that the manual leaves alone are not written: 464-511 of the legacy area, XMM8-15 outside of 64-bit mode,
 *               components not asked for.
 *            2. A fault in a load leaves all registers as they were.
 * Missing    XSAVES, XRSTORS and supervisor components: no rows.
 */
#include "../machine.h"
#include "cpu.h"
#include "desc.h"

enum { XSAVE_X87 = 1, XSAVE_SSE = 2, XSAVE_AVX = 4, XSAVE_PKRU = 1 << 9, XSAVE_LEGACY = 512, XSAVE_HEADER = 64, XSAVE_BASE = 576, XSAVE_COUNT = 10,
       MXCSR_MASK = 0xFFFF };
#define XSAVE_COMPACT (UINT64_C(1) << 63)

EMU_PRIV void xsave_component(unsigned n, uint32_t *offset, uint32_t *size)
{
    *offset = *size = 0;
    if (n == 2) {
        *offset = 576;
        *size = 256;
    } else if (n == 9) {
        *offset = 2688;
        *size = 8;
    }
}

EMU_PRIV uint64_t xsave_components(const struct cpu *c)
{
    return (uint64_t)XSAVE_X87 | XSAVE_SSE | (cpu_has(c, CPU_AVX) ? XSAVE_AVX : 0) | (cpu_has(c, CPU_PKU) ? XSAVE_PKRU : 0);
}

static bool xsave_long_form(const struct insn *i) { return (i->rex & 8) != 0; }
static unsigned xsave_xmm_count(const struct cpu *c) { return c->mode == MODE_LONG ? 16 : 8; }

/* Components that are not in their initial configuration (SDM 1 13.6). */
static uint64_t xsave_in_use(const struct cpu *c)
{
    uint64_t used = 0, low = 0, high = 0;
    unsigned k, n = 16;
    for (k = 0; k < n; k++) {
        low |= c->xmm[k].q[0] | c->xmm[k].q[1];
        high |= c->xmm[k].q[2] | c->xmm[k].q[3];
    }
    if (low)
        used |= XSAVE_SSE;
    if (high)
        used |= XSAVE_AVX;
    if (c->pkru)
        used |= XSAVE_PKRU;
    if (c->x87_control != 0x37F || c->x87_status || c->x87_top || c->x87_tags != 0xFF || c->x87_ip || c->x87_dp || c->x87_opcode || c->x87_cs || c->x87_ds)
        used |= XSAVE_X87;
    for (k = 0; k < 8; k++)
        if (c->x87[k].mant || c->x87[k].exp)
            used |= XSAVE_X87;
    return used;
}

/* ---- FXSAVE, FXRSTOR ---- */

static int xsave_fx_check(struct cpu *c, const struct insn *i, uint64_t *a)
{
    uint64_t va;
    if (c->cr0 & (CR0_EM | CR0_TS))
        return cpu_raise(c, EXC_NM);
    *a = insn_address(c, i);
    if (cpu_linear(c, i->seg, *a, XSAVE_LEGACY, ACCESS_READ, &va))
        return CPU_FAULT;
    if (va & 15)
        return cpu_raise_error(c, EXC_GP, 0);
    return CPU_OK;
}

EMU_PRIV int xsave_fxsave(struct cpu *c, const struct insn *i)
{
    uint8_t image[XSAVE_LEGACY];
    uint64_t a;
    if (xsave_fx_check(c, i, &a))
        return CPU_FAULT;
    memset(image, 0, sizeof image);
    x87_pack_fxsave(c, image, xsave_long_form(i));
    return cpu_store_bytes(c, i->seg, a, image, 160 + 16 * xsave_xmm_count(c));
}

EMU_PRIV int xsave_fxrstor(struct cpu *c, const struct insn *i)
{
    uint8_t image[XSAVE_LEGACY];
    uint64_t a;
    if (xsave_fx_check(c, i, &a))
        return CPU_FAULT;
    memset(image, 0, sizeof image);
    x87_pack_fxsave(c, image, xsave_long_form(i)); /* what is not in memory stays */
    if (cpu_load_bytes(c, i->seg, a, image, 160 + 16 * xsave_xmm_count(c)))
        return CPU_FAULT;
    if (ld32le(image + 24) & ~(uint32_t)MXCSR_MASK)
        return cpu_raise_error(c, EXC_GP, 0);
    x87_unpack_fxsave(c, image, xsave_long_form(i));
    return CPU_OK;
}

/* ---- XSAVE ---- */

static int xsave_check(struct cpu *c, const struct insn *i, uint64_t *a, uint64_t *rfbm)
{
    uint64_t va;
    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise(c, EXC_UD);
    if (c->cr0 & CR0_TS)
        return cpu_raise(c, EXC_NM);
    *a = insn_address(c, i);
    if (cpu_linear(c, i->seg, *a, XSAVE_BASE, ACCESS_READ, &va))
        return CPU_FAULT;
    if (va & 63)
        return cpu_raise_error(c, EXC_GP, 0);
    *rfbm = ((uint32_t)c->gpr[GPR_RAX] | (c->gpr[GPR_RDX] << 32)) & c->xcr0;
    return CPU_OK;
}

/* Where component n lies; compact: behind the lower components in `mask`. */
static uint32_t xsave_offset(unsigned n, uint64_t mask, bool compact)
{
    uint32_t at = XSAVE_BASE, offset, size;
    unsigned k;
    if (!compact) {
        xsave_component(n, &offset, &size);
        return offset;
    }
    for (k = 2; k < n; k++)
        if ((mask >> k) & 1) {
            xsave_component(k, &offset, &size);
            at += size;
        }
    return at;
}

static void xsave_pack(const struct cpu *c, unsigned n, uint8_t *p)
{
    unsigned k;
    if (n == 2) {
        for (k = 0; k < 16; k++) {
            st64le(p + k * 16, c->xmm[k].q[2]);
            st64le(p + k * 16 + 8, c->xmm[k].q[3]);
        }
    } else {
        st64le(p, c->pkru);
    }
}

static void xsave_unpack(struct cpu *c, unsigned n, const uint8_t *p) /* p NULL: initial configuration */
{
    unsigned k, count = xsave_xmm_count(c);
    if (n == 2) {
        for (k = 0; k < count; k++) {
            c->xmm[k].q[2] = p ? ld64le(p + k * 16) : 0;
            c->xmm[k].q[3] = p ? ld64le(p + k * 16 + 8) : 0;
        }
    } else {
        uint32_t v = p ? ld32le(p) : 0;
        if (v != c->pkru) {
            c->pkru = v;
            tlb_flush_all(c);
        }
    }
}

/* kind: 0 XSAVE, 1 XSAVEOPT, 2 XSAVEC. */
static int xsave_store(struct cpu *c, const struct insn *i, unsigned kind)
{
    uint8_t image[XSAVE_LEGACY], part[256], header[XSAVE_HEADER];
    uint64_t a, rfbm, used = xsave_in_use(c), bv, written;
    uint32_t at, size;
    unsigned n, xmm = xsave_xmm_count(c);
    bool compact = kind == 2;
    if (xsave_check(c, i, &a, &rfbm))
        return CPU_FAULT;
    memset(header, 0, sizeof header);
    if (!compact && cpu_load_bytes(c, i->seg, a + XSAVE_LEGACY, header, XSAVE_HEADER))
        return CPU_FAULT;
    if (compact && c->mxcsr != 0x1F80)
        used |= XSAVE_SSE; /* SDM 1 13.6: for the compacting forms MXCSR counts */
    bv = (ld64le(header) & ~rfbm) | (used & rfbm);
    if (compact)
        bv = used & rfbm;
    written = kind == 0 ? rfbm : used & rfbm;
    if (cpu_check_store(c, i->seg, a, XSAVE_BASE)) /* every page first; parts beyond fault below, before the header changes */
        return CPU_FAULT;
    memset(image, 0, sizeof image);
    x87_pack_fxsave(c, image, xsave_long_form(i));
    for (n = 2; n < XSAVE_COUNT; n++) {
        if (!((written >> n) & 1))
            continue;
        size = 0;
        xsave_component(n, &at, &size);
        at = xsave_offset(n, rfbm, compact);
        memset(part, 0, sizeof part);
        xsave_pack(c, n, part);
        if (n == 2 && xmm == 8)
            size = 128;
        if (cpu_store_bytes(c, i->seg, a + at, part, size))
            return CPU_FAULT;
    }
    if ((written & XSAVE_X87) && (cpu_store_bytes(c, i->seg, a, image, 24) || cpu_store_bytes(c, i->seg, a + 32, image + 32, 128)))
        return CPU_FAULT;
    if ((compact ? written & XSAVE_SSE : rfbm & (XSAVE_SSE | XSAVE_AVX)) && cpu_store_bytes(c, i->seg, a + 24, image + 24, 8))
        return CPU_FAULT;
    if ((written & XSAVE_SSE) && cpu_store_bytes(c, i->seg, a + 160, image + 160, 16 * xmm))
        return CPU_FAULT;
    st64le(header, bv);
    if (compact)
        st64le(header + 8, rfbm | XSAVE_COMPACT);
    return cpu_store_bytes(c, i->seg, a + XSAVE_LEGACY, header, compact ? 16 : 8);
}

EMU_PRIV int xsave_xsave(struct cpu *c, const struct insn *i) { return xsave_store(c, i, 0); }
EMU_PRIV int xsave_xsaveopt(struct cpu *c, const struct insn *i) { return xsave_store(c, i, 1); }
EMU_PRIV int xsave_xsavec(struct cpu *c, const struct insn *i) { return xsave_store(c, i, 2); }

static int xsave_check_header(struct cpu *c, const uint8_t *h, bool *compact)
{
    uint64_t bv = ld64le(h), comp = ld64le(h + 8);
    unsigned k;
    *compact = (comp & XSAVE_COMPACT) != 0;
    if (*compact) {
        if (!cpu_has(c, CPU_XSAVEC) || (comp & ~XSAVE_COMPACT & ~c->xcr0) || (bv & ~comp))
            return cpu_raise_error(c, EXC_GP, 0);
        for (k = 16; k < XSAVE_HEADER; k++)
            if (h[k])
                return cpu_raise_error(c, EXC_GP, 0);
    } else {
        if ((bv & ~c->xcr0) || comp || ld64le(h + 16))
            return cpu_raise_error(c, EXC_GP, 0);
    }
    return CPU_OK;
}

/* Values of the x87 part in its initial configuration, as an image. */
static void xsave_init_x87(uint8_t *image)
{
    memset(image, 0, 24);
    memset(image + 32, 0, 128);
    st16le(image, 0x37F);
}

EMU_PRIV int xsave_xrstor(struct cpu *c, const struct insn *i)
{
    uint8_t image[XSAVE_LEGACY], old[XSAVE_LEGACY], header[XSAVE_HEADER], part[XSAVE_COUNT][256];
    uint64_t a, rfbm, bv, comp, ip, dp;
    uint16_t cs, ds;
    uint32_t at, size;
    unsigned n, xmm = xsave_xmm_count(c);
    bool compact, load_mxcsr;
    if (xsave_check(c, i, &a, &rfbm))
        return CPU_FAULT;
    if (cpu_load_bytes(c, i->seg, a + XSAVE_LEGACY, header, XSAVE_HEADER) || xsave_check_header(c, header, &compact))
        return CPU_FAULT;
    bv = ld64le(header);
    comp = ld64le(header + 8);
    if (cpu_load_bytes(c, i->seg, a, image, XSAVE_LEGACY))
        return CPU_FAULT;
    load_mxcsr = compact ? (rfbm & bv & XSAVE_SSE) != 0 : (rfbm & (XSAVE_SSE | XSAVE_AVX)) != 0;
    if (load_mxcsr && (ld32le(image + 24) & ~(uint32_t)MXCSR_MASK))
        return cpu_raise_error(c, EXC_GP, 0);
    for (n = 2; n < XSAVE_COUNT; n++)
        if ((rfbm & bv) >> n & 1) {
            xsave_component(n, &at, &size);
            if (n == 2 && xmm == 8)
                size = 128;
            if (cpu_load_bytes(c, i->seg, a + xsave_offset(n, comp, compact), part[n], size))
                return CPU_FAULT;
        }
    memset(old, 0, sizeof old);
    x87_pack_fxsave(c, old, xsave_long_form(i));
    if (!(rfbm & XSAVE_X87)) {
        memcpy(image, old, 24);
        memcpy(image + 32, old + 32, 128);
    } else if (!(bv & XSAVE_X87)) {
        xsave_init_x87(image);
    }
    if (!load_mxcsr)
        memcpy(image + 24, old + 24, 8);
    if (compact && (rfbm & XSAVE_SSE) && !(bv & XSAVE_SSE))
        st32le(image + 24, 0x1F80);
    if (!(rfbm & XSAVE_SSE))
        memcpy(image + 160, old + 160, 256);
    else if (!(bv & XSAVE_SSE))
        memset(image + 160, 0, 16 * xmm);
    if (xmm == 8)
        memcpy(image + 288, old + 288, 128);
    ip = c->x87_ip, dp = c->x87_dp, cs = c->x87_cs, ds = c->x87_ds;
    x87_unpack_fxsave(c, image, xsave_long_form(i));
    if (!(rfbm & XSAVE_X87)) /* neither form holds all of them */
        c->x87_ip = ip, c->x87_dp = dp, c->x87_cs = cs, c->x87_ds = ds;
    for (n = 2; n < XSAVE_COUNT; n++)
        if ((rfbm >> n) & 1)
            xsave_unpack(c, n, (bv >> n) & 1 ? part[n] : NULL);
    return CPU_OK;
}

EMU_PRIV int xsave_xgetbv(struct cpu *c, const struct insn *i)
{
    uint64_t v;
    (void)i;
    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise(c, EXC_UD);
    if ((uint32_t)c->gpr[GPR_RCX] == 0)
        v = c->xcr0;
    else if ((uint32_t)c->gpr[GPR_RCX] == 1 && cpu_has(c, CPU_XGETBV1))
        v = c->xcr0 & xsave_in_use(c);
    else
        return cpu_raise_error(c, EXC_GP, 0);
    c->gpr[GPR_RAX] = (uint32_t)v;
    c->gpr[GPR_RDX] = v >> 32;
    return CPU_OK;
}

EMU_PRIV int xsave_xsetbv(struct cpu *c, const struct insn *i)
{
    uint64_t v = (uint32_t)c->gpr[GPR_RAX] | (c->gpr[GPR_RDX] << 32);
    (void)i;
    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise(c, EXC_UD);
    if (c->cpl != 0 || (uint32_t)c->gpr[GPR_RCX] != 0 || !(v & XSAVE_X87) || (v & ~xsave_components(c)) || (v & (XSAVE_AVX | XSAVE_SSE)) == XSAVE_AVX)
        return cpu_raise_error(c, EXC_GP, 0);
    c->xcr0 = v;
    cpu_update_mode(c);
    return CPU_OK;
}

#undef XSAVE_COMPACT
