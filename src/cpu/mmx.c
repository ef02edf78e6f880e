/* cpu/mmx.c - packed integers: every instruction that MMX brought, in its 64-bit MMX and its 128-bit SSE2 form.
 *
 * Models     SDM vol. 1 chapters 9 to 11, vol. 2 (PADDB to PXOR, MOVD, MOVQ, MOVDQA, PSHUFx, MASKMOVx, EMMS).
 * Contract   cpu_rows_mmx() gives decode.c the rows. The operations are vec_fn (see cpu.h): pure functions of registers; MASKMOVx and EMMS are
 *            insn_fn. The engine checks CR0.EM/TS and pending x87 exceptions, and sets the tags, where a row says ROW_MMX.
 * Theory     One body stands for both widths: VEC_LANES where lane i of the result depends on lane i of the operands alone, VEC_BODY where
 *            lanes move. Element numbers are the guest's through VB, VW, VD, VQ.
 * Invariants 1. An operation writes 8 (MMX) or 16 bytes of d, never more: legacy SSE keeps the upper half of YMM.
 *            2. d may be a or b.
 */
#include "../machine.h"
#include "cpu.h"
#include "vec.h"
#include "uop.h"

/* ---- moves ---- */
VEC_FN_INLINE(mov128)
{
    (void)c, (void)a, (void)imm;
    memmove(d, b, 16);
    return CPU_OK;
}
VEC_FN_INLINE(mov64) /* keeps the rest */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    return CPU_OK;
}
VEC_FN_INLINE(mov64_zero) /* clears bits 64 to 127 */
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VQ(b, 0);
    VQ(d, 1) = 0;
    return CPU_OK;
}
VEC_FN_INLINE(mov32_zero64)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = VD(b, 0);
    return CPU_OK;
}
/* ---- additions, comparisons, logic ---- */
VEC_LANES(paddb, uint8_t, uint8_t, x + y)
VEC_LANES(paddw, uint16_t, uint16_t, x + y)
VEC_LANES(paddd, uint32_t, uint32_t, x + y)
VEC_LANES(paddq, uint64_t, uint64_t, x + y)
VEC_LANES(psubb, uint8_t, uint8_t, x - y)
VEC_LANES(psubw, uint16_t, uint16_t, x - y)
VEC_LANES(psubd, uint32_t, uint32_t, x - y)
VEC_LANES(psubq, uint64_t, uint64_t, x - y)
VEC_LANES(paddsb, int8_t, int8_t, vec_clamp(x + y, -128, 127))
VEC_LANES(paddsw, int16_t, int16_t, vec_clamp(x + y, -32768, 32767))
VEC_LANES(psubsb, int8_t, int8_t, vec_clamp(x - y, -128, 127))
VEC_LANES(psubsw, int16_t, int16_t, vec_clamp(x - y, -32768, 32767))
VEC_LANES(paddusb, uint8_t, uint8_t, x + y > 255 ? 255 : x + y)
VEC_LANES(paddusw, uint16_t, uint16_t, x + y > 65535 ? 65535 : x + y)
VEC_LANES(psubusb, uint8_t, uint8_t, x > y ? x - y : 0)
VEC_LANES(psubusw, uint16_t, uint16_t, x > y ? x - y : 0)
VEC_LANES(pcmpeqb, uint8_t, uint8_t, x == y ? 0xFF : 0)
VEC_LANES(pcmpeqw, uint16_t, uint16_t, x == y ? 0xFFFF : 0)
VEC_LANES(pcmpeqd, uint32_t, uint32_t, x == y ? UINT32_MAX : 0)
VEC_LANES(pcmpgtb, int8_t, uint8_t, x > y ? 0xFF : 0)
VEC_LANES(pcmpgtw, int16_t, uint16_t, x > y ? 0xFFFF : 0)
VEC_LANES(pcmpgtd, int32_t, uint32_t, x > y ? UINT32_MAX : 0)
VEC_LANES(pand, uint64_t, uint64_t, x & y)
VEC_LANES(pandn, uint64_t, uint64_t, ~x & y)
VEC_LANES(por, uint64_t, uint64_t, x | y)
VEC_LANES(pxor, uint64_t, uint64_t, x ^ y)
VEC_LANES(pavgb, uint8_t, uint8_t, (x + y + 1) >> 1)
VEC_LANES(pavgw, uint16_t, uint16_t, (x + y + 1) >> 1)
VEC_LANES(pminub, uint8_t, uint8_t, x < y ? x : y)
VEC_LANES(pmaxub, uint8_t, uint8_t, x > y ? x : y)
VEC_LANES(pminsw, int16_t, int16_t, x < y ? x : y)
VEC_LANES(pmaxsw, int16_t, int16_t, x > y ? x : y)

/* ---- multiplications ---- */
VEC_LANES(pmullw, uint16_t, uint16_t, (uint32_t)x * y)
VEC_LANES(pmulhuw, uint16_t, uint16_t, ((uint32_t)x * y) >> 16)
VEC_LANES(pmulhw, int16_t, uint16_t, (uint32_t)((int32_t)x * y) >> 16)
VEC_LANES(pmuludq, uint64_t, uint64_t, (x & UINT32_MAX) * (y & UINT32_MAX))
VEC_BODY(pmaddwd, {
    unsigned i;
    for (i = 0; i < bytes / 4; i++)
        VD(&vr, i) = (uint32_t)((int32_t)(int16_t)VW(&va, 2 * i) * (int16_t)VW(&vb, 2 * i)) +
                     (uint32_t)((int32_t)(int16_t)VW(&va, 2 * i + 1) * (int16_t)VW(&vb, 2 * i + 1));
})
VEC_BODY(psadbw, {
    unsigned i, q;
    for (q = 0; q < bytes / 8; q++) {
        unsigned sum = 0;
        for (i = 0; i < 8; i++) {
            int diff = VB(&va, 8 * q + i) - VB(&vb, 8 * q + i);
            sum += (unsigned)(diff < 0 ? -diff : diff);
        }
        VQ(&vr, q) = sum;
    }
})

/* ---- shifts: by a register's low 64 bits, or by an immediate ---- */
static uint64_t mmx_count(uint64_t n, unsigned bits) { return n < bits ? n : bits; }
#define MMX_SHIFT(name, T, bits, result, over)                                                                         \
    EMU_ALWAYS_INLINE void mmx_do_##name(union vec *d, const union vec *a, uint64_t count, unsigned bytes)                    \
    {                                                                                                                  \
        T v[16 / sizeof(T)];                                                                                           \
        unsigned lane, n = (unsigned)mmx_count(count, bits);                                                           \
        memcpy(v, a, bytes);                                                                                           \
        if (n == bits)                                                                                                 \
            for (lane = 0; lane < bytes / sizeof(T); lane++)                                                           \
                v[lane] = (T)(over);                                                                                   \
        else                                                                                                           \
            for (lane = 0; lane < bytes / sizeof(T); lane++)                                                           \
                v[lane] = (T)(result);                                                                                 \
        memcpy(d, v, bytes);                                                                                           \
    }                                                                                                                  \
    VEC_FN_INLINE(name) { return (void)c, (void)imm, mmx_do_##name(d, a, VQ(b, 0), 16), CPU_OK; }                             \
    VEC_FN(mmx_##name) { return (void)c, (void)imm, mmx_do_##name(d, a, VQ(b, 0), 8), CPU_OK; }                        \
    VEC_FN_INLINE(name##_i) { return (void)c, (void)a, mmx_do_##name(d, b, imm, 16), CPU_OK; }                                \
    VEC_FN(mmx_##name##_i) { return (void)c, (void)a, mmx_do_##name(d, b, imm, 8), CPU_OK; }
MMX_SHIFT(psrlw, uint16_t, 16, v[lane] >> n, 0)
MMX_SHIFT(psrld, uint32_t, 32, v[lane] >> n, 0)
MMX_SHIFT(psrlq, uint64_t, 64, v[lane] >> n, 0)
MMX_SHIFT(psllw, uint16_t, 16, (uint32_t)v[lane] << n, 0)
MMX_SHIFT(pslld, uint32_t, 32, v[lane] << n, 0)
MMX_SHIFT(psllq, uint64_t, 64, v[lane] << n, 0)
MMX_SHIFT(psraw, uint16_t, 16, v[lane] & 0x8000u ? ~((uint16_t)~v[lane] >> n) : v[lane] >> n, (v[lane] & 0x8000u) ? 0xFFFF : 0)
MMX_SHIFT(psrad, uint32_t, 32, v[lane] >> 31 ? ~(~v[lane] >> n) : v[lane] >> n, v[lane] >> 31 ? UINT32_MAX : 0)
#undef MMX_SHIFT

VEC_FN_INLINE(psrldq)
{
    uint64_t lo = VQ(b, 0), hi = VQ(b, 1);
    unsigned n = imm > 15 ? 16 : imm;
    (void)c, (void)a;
    VQ(d, 0) = n >= 16 ? 0 : n > 8 ? hi >> (8 * n - 64) : n == 8 ? hi : n ? lo >> (8 * n) | hi << (64 - 8 * n) : lo;
    VQ(d, 1) = n >= 8 ? 0 : hi >> (8 * n);
    return CPU_OK;
}
VEC_FN_INLINE(pslldq)
{
    uint64_t lo = VQ(b, 0), hi = VQ(b, 1);
    unsigned n = imm > 15 ? 16 : imm;
    (void)c, (void)a;
    VQ(d, 1) = n >= 16 ? 0 : n > 8 ? lo << (8 * n - 64) : n == 8 ? lo : n ? hi << (8 * n) | lo >> (64 - 8 * n) : hi;
    VQ(d, 0) = n >= 8 ? 0 : lo << (8 * n);
    return CPU_OK;
}

/* ---- packing and unpacking ---- */
VEC_BODY(packsswb, {
    unsigned i, h = bytes / 2;
    for (i = 0; i < h; i++) {
        VB(&vr, i) = (uint8_t)vec_clamp((int16_t)VW(&va, i), -128, 127);
        VB(&vr, h + i) = (uint8_t)vec_clamp((int16_t)VW(&vb, i), -128, 127);
    }
})
VEC_BODY(packuswb, {
    unsigned i, h = bytes / 2;
    for (i = 0; i < h; i++) {
        VB(&vr, i) = (uint8_t)vec_clamp((int16_t)VW(&va, i), 0, 255);
        VB(&vr, h + i) = (uint8_t)vec_clamp((int16_t)VW(&vb, i), 0, 255);
    }
})
VEC_BODY(packssdw, {
    unsigned i, h = bytes / 4;
    for (i = 0; i < h; i++) {
        VW(&vr, i) = (uint16_t)vec_clamp((int32_t)VD(&va, i), -32768, 32767);
        VW(&vr, h + i) = (uint16_t)vec_clamp((int32_t)VD(&vb, i), -32768, 32767);
    }
})
#define MMX_UNPACK(name, V, size, high)                                                                                \
    VEC_BODY(name, {                                                                                                   \
        unsigned i, first = (high) ? bytes / (size) / 2 : 0;                                                           \
        for (i = 0; i < bytes / (size) / 2; i++) {                                                                     \
            V(&vr, 2 * i) = V(&va, first + i);                                                                         \
            V(&vr, 2 * i + 1) = V(&vb, first + i);                                                                     \
        }                                                                                                              \
    })
MMX_UNPACK(punpcklbw, VB, 1, 0)
MMX_UNPACK(punpcklwd, VW, 2, 0)
MMX_UNPACK(punpckldq, VD, 4, 0)
MMX_UNPACK(punpckhbw, VB, 1, 1)
MMX_UNPACK(punpckhwd, VW, 2, 1)
MMX_UNPACK(punpckhdq, VD, 4, 1)
#undef MMX_UNPACK
VEC_FN_INLINE(punpcklqdq)
{
    (void)c, (void)imm;
    VQ(d, 1) = VQ(b, 0);
    VQ(d, 0) = VQ(a, 0);
    return CPU_OK;
}
VEC_FN_INLINE(punpckhqdq)
{
    uint64_t high = VQ(b, 1);
    (void)c, (void)imm;
    VQ(d, 0) = VQ(a, 1);
    VQ(d, 1) = high;
    return CPU_OK;
}

/* ---- shuffles, inserts, extracts, masks ---- */
VEC_FN(mmx_pshufw)
VEC_BODY_N(8, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VW(&vr, i) = VW(&vb, (imm >> (2 * i)) & 3);
})
VEC_FN_INLINE(pshufd)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VD(&vr, i) = VD(&vb, (imm >> (2 * i)) & 3);
})
VEC_FN_INLINE(pshuflw)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VW(&vr, i) = VW(&vb, (imm >> (2 * i)) & 3);
    VQ(&vr, 1) = VQ(&vb, 1);
})
VEC_FN_INLINE(pshufhw)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VW(&vr, 4 + i) = VW(&vb, 4 + ((imm >> (2 * i)) & 3));
    VQ(&vr, 0) = VQ(&vb, 0);
})
VEC_FN(pinsrw)
{
    (void)c, (void)a;
    VW(d, imm & 7) = VW(b, 0);
    return CPU_OK;
}
VEC_FN(mmx_pinsrw)
{
    (void)c, (void)a;
    VW(d, imm & 3) = VW(b, 0);
    return CPU_OK;
}
VEC_FN_INLINE(pextrw)
{
    (void)c, (void)a;
    VQ(d, 0) = VW(b, imm & 7);
    return CPU_OK;
}
VEC_FN(mmx_pextrw)
{
    (void)c, (void)a;
    VQ(d, 0) = VW(b, imm & 3);
    return CPU_OK;
}
/* The eight bytes' top bits, first byte in bit 0: the multiplication gathers them in the top byte without carries. */
static unsigned mmx_byte_signs(uint64_t q)
{
    return (unsigned)(((q >> 7 & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080)) >> 56);
}
VEC_FN_INLINE(pmovmskb)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = mmx_byte_signs(VQ(b, 0)) | mmx_byte_signs(VQ(b, 1)) << 8;
    return CPU_OK;
}
VEC_FN(mmx_pmovmskb)
{
    (void)c, (void)a, (void)imm;
    VQ(d, 0) = mmx_byte_signs(VQ(b, 0));
    return CPU_OK;
}

/* ---- plain C ---- */

/* Stores the bytes of src whose mask byte has its top bit set at segment:rDI. All of the operand is checked first, the upper half before
 * the lower, whatever the mask says, as hardware does; so a fault leaves memory as it was. */
static int mmx_mask_store(struct cpu *c, const struct insn *i, const union vec *src, const union vec *mask, unsigned bytes)
{
    uint64_t base = c->gpr[GPR_RDI], wrap = i->addrsize == 8 ? UINT64_MAX : i->addrsize == 4 ? UINT32_MAX : UINT16_MAX;
    unsigned k;
    int r = CPU_OK;
    if (bytes == 16)
        r = cpu_check_store(c, i->seg, (base + 8) & wrap, 8);
    if (!r)
        r = cpu_check_store(c, i->seg, base & wrap, 8);
    for (k = 0; k < bytes && !r; k++)
        if (VB(mask, k) & 0x80)
            r = cpu_store(c, i->seg, (base + k) & wrap, 1, VB(src, k));
    return r;
}
static int mmx_maskmovdqu(struct cpu *c, const struct insn *i)
{
    return mmx_mask_store(c, i, &c->xmm[i->reg], &c->xmm[i->rm], 16);
}
static int mmx_maskmovq(struct cpu *c, const struct insn *i)
{
    union vec src, mask;
    int r = mmx_enter(c);
    if (r)
        return r;
    memset(&src, 0, sizeof src);
    memset(&mask, 0, sizeof mask);
    VQ(&src, 0) = c->x87[i->reg & 7].mant;
    VQ(&mask, 0) = c->x87[i->rm & 7].mant;
    return mmx_mask_store(c, i, &src, &mask, 8);
}
static int mmx_emms(struct cpu *c, const struct insn *i)
{
    uint8_t top = c->x87_top;
    int r = mmx_enter(c);
    (void)i;
    if (r)
        return r;
    c->x87_top = top;
    c->x87_tags = 0xFF;
    return CPU_OK;
}

/* ---- handlers of the XMM forms (uop.h) ---- */
#define MMX_EACH(M)  \
    M(packsswb) M(pcmpgtb) M(pcmpgtw) M(pcmpgtd) M(packuswb) M(punpckhbw) M(punpckhwd) M(punpckhdq) M(packssdw) \
    M(pcmpeqb) M(pcmpeqw) M(pcmpeqd) M(psrlw) M(psrld) M(psrlq) M(paddq) M(pmullw) M(psubusb) M(psubusw) M(pminub) \
    M(pand) M(paddusb) M(paddusw) M(pmaxub) M(pandn) M(pavgb) M(psraw) M(psrad) M(pavgw) M(pmulhuw) M(pmulhw) \
    M(psubsb) M(psubsw) M(pminsw) M(por) M(paddsb) M(paddsw) M(pmaxsw) M(pxor) M(psllw) M(pslld) M(psllq) M(pmuludq) \
    M(pmaddwd) M(psadbw) M(psubb) M(psubw) M(psubd) M(psubq) M(paddb) M(paddw) M(paddd) M(psrlw_i) M(psraw_i) \
    M(psllw_i) M(psrld_i) M(psrad_i) M(pslld_i) M(psrlq_i) M(psllq_i) M(punpcklbw) M(punpcklwd) M(punpckldq) \
    M(punpcklqdq) M(punpckhqdq) M(pshufd) M(pshufhw) M(pshuflw) M(psrldq) M(pslldq)
#define MMX_HANDLERS(fn) VEC_HANDLERS(fn, 16)
MMX_EACH(MMX_HANDLERS)
VEC_HANDLERS_LOAD(mov128, 16, vec_load16)
VEC_HANDLERS_LOAD(mov64_zero, 8, VEC_LOAD_8_ZERO)
VEC_HANDLERS(mov32_zero64, 4)
VEC_HANDLERS(mov64, 8)
VEC_HANDLERS(pmovmskb, 16)
VEC_HANDLERS(pextrw, 16)
#undef MMX_HANDLERS
#undef MMX_EACH

/* ---- the table ---- */
#define MMX_M ROW_MMX
#define MMX_S ROW_SSE
/* Both forms of one opcode: MMX without a prefix, XMM with 66. */
#define MMX_PAIR(op, name, needs_mmx, fn)                                                                              \
    ROW_VEC(ENC0F(op) | PFX_NP, name, OPND_Pq, OPND_Qq, 0, needs_mmx, MMX_M, 0, mmx_##fn),                             \
    ROW_VEC_H(ENC0F(op) | PFX_66, name, OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, fn)
#define MMX_SHIFTS(op, n, name, fn)                                                                                    \
    ROW_VEC(ENC0F(op) | PFX_NP | SLASH(n) | MOD_REG, name, OPND_Nq, OPND_Ib, 0, CPU_MMX, MMX_M, 0, mmx_##fn),          \
    ROW_VEC_H(ENC0F(op) | PFX_66 | SLASH(n) | MOD_REG, name, OPND_Ux, OPND_Ib, 0, CPU_SSE2, MMX_S, 0, fn)

static const struct insn_row mmx_rows[] = {
    MMX_PAIR(0x63, "packsswb", CPU_MMX, packsswb),
    MMX_PAIR(0x64, "pcmpgtb", CPU_MMX, pcmpgtb),
    MMX_PAIR(0x65, "pcmpgtw", CPU_MMX, pcmpgtw),
    MMX_PAIR(0x66, "pcmpgtd", CPU_MMX, pcmpgtd),
    MMX_PAIR(0x67, "packuswb", CPU_MMX, packuswb),
    MMX_PAIR(0x68, "punpckhbw", CPU_MMX, punpckhbw),
    MMX_PAIR(0x69, "punpckhwd", CPU_MMX, punpckhwd),
    MMX_PAIR(0x6A, "punpckhdq", CPU_MMX, punpckhdq),
    MMX_PAIR(0x6B, "packssdw", CPU_MMX, packssdw),
    /* the low halves read only 4 bytes in MMX form */
    ROW_VEC(ENC0F(0x60) | PFX_NP, "punpcklbw", OPND_Pq, OPND_Qd, 0, CPU_MMX, MMX_M, 0, mmx_punpcklbw),
    ROW_VEC_H(ENC0F(0x60) | PFX_66, "punpcklbw", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpcklbw),
    ROW_VEC(ENC0F(0x61) | PFX_NP, "punpcklwd", OPND_Pq, OPND_Qd, 0, CPU_MMX, MMX_M, 0, mmx_punpcklwd),
    ROW_VEC_H(ENC0F(0x61) | PFX_66, "punpcklwd", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpcklwd),
    ROW_VEC(ENC0F(0x62) | PFX_NP, "punpckldq", OPND_Pq, OPND_Qd, 0, CPU_MMX, MMX_M, 0, mmx_punpckldq),
    ROW_VEC_H(ENC0F(0x62) | PFX_66, "punpckldq", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpckldq),
    ROW_VEC_H(ENC0F(0x6C) | PFX_66, "punpcklqdq", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpcklqdq),
    ROW_VEC_H(ENC0F(0x6D) | PFX_66, "punpckhqdq", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, punpckhqdq),

    ROW_VEC(ENC0F(0x6E) | PFX_NP | W0, "movd", OPND_Pq, OPND_Ed, 0, CPU_MMX, MMX_M, 0, mov64),
    ROW_VEC(ENC0F(0x6E) | PFX_NP | W1, "movq", OPND_Pq, OPND_Eq, 0, CPU_MMX, MMX_M, 0, mov64),
    ROW_VEC_H(ENC0F(0x6E) | PFX_66 | W0, "movd", OPND_Vx, OPND_Ed, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC_H(ENC0F(0x6E) | PFX_66 | W1, "movq", OPND_Vx, OPND_Eq, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC(ENC0F(0x7E) | PFX_NP | W0, "movd", OPND_Ed, OPND_Pq, 0, CPU_MMX, MMX_M | ROW_WRITES_MEM, 0, mov32_zero64),
    ROW_VEC(ENC0F(0x7E) | PFX_NP | W1, "movq", OPND_Eq, OPND_Pq, 0, CPU_MMX, MMX_M | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC_H(ENC0F(0x7E) | PFX_66 | W0, "movd", OPND_Ed, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov32_zero64),
    ROW_VEC_H(ENC0F(0x7E) | PFX_66 | W1, "movq", OPND_Eq, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC_H(ENC0F(0x7E) | PFX_F3, "movq", OPND_Vx, OPND_Wq, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC_H(ENC0F(0xD6) | PFX_66 | MOD_REG, "movq", OPND_Ux, OPND_Vx, 0, CPU_SSE2, MMX_S, 0, mov64_zero),
    ROW_VEC_STORE(ENC0F(0xD6) | PFX_66 | MOD_MEM, "movq", OPND_Wq, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC(ENC0F(0xD6) | PFX_F3 | MOD_REG, "movq2dq", OPND_Vx, OPND_Nq, 0, CPU_SSE2, MMX_S | MMX_M, 0, mov64_zero),
    ROW_VEC(ENC0F(0xD6) | PFX_F2 | MOD_REG, "movdq2q", OPND_Pq, OPND_Ux, 0, CPU_SSE2, MMX_S | MMX_M, 0, mov64),
    ROW_VEC(ENC0F(0x6F) | PFX_NP, "movq", OPND_Pq, OPND_Qq, 0, CPU_MMX, MMX_M, 0, mov64),
    ROW_VEC_H(ENC0F(0x6F) | PFX_66, "movdqa", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S, 0, mov128),
    ROW_VEC_H(ENC0F(0x6F) | PFX_F3, "movdqu", OPND_Vx, OPND_Wx, 0, CPU_SSE2, MMX_S | ROW_UNALIGNED, 0, mov128),
    ROW_VEC(ENC0F(0x7F) | PFX_NP, "movq", OPND_Qq, OPND_Pq, 0, CPU_MMX, MMX_M | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC_STORE(ENC0F(0x7F) | PFX_66, "movdqa", OPND_Wx, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov128),
    ROW_VEC_STORE(ENC0F(0x7F) | PFX_F3, "movdqu", OPND_Wx, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM | ROW_UNALIGNED, 0, mov128),
    ROW_VEC_H(ENC0F(0xF0) | PFX_F2 | MOD_MEM, "lddqu", OPND_Vx, OPND_Wx, 0, CPU_SSE3, MMX_S | ROW_UNALIGNED, 0, mov128),
    ROW_VEC(ENC0F(0xE7) | PFX_NP | MOD_MEM, "movntq", OPND_Qq, OPND_Pq, 0, CPU_SSE, MMX_M | ROW_WRITES_MEM, 0, mov64),
    ROW_VEC_STORE(ENC0F(0xE7) | PFX_66 | MOD_MEM, "movntdq", OPND_Wx, OPND_Vx, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, mov128),

    ROW_VEC(ENC0F(0x70) | PFX_NP, "pshufw", OPND_Pq, OPND_Qq, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pshufw),
    ROW_VEC_H(ENC0F(0x70) | PFX_66, "pshufd", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSE2, MMX_S, 0, pshufd),
    ROW_VEC_H(ENC0F(0x70) | PFX_F3, "pshufhw", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSE2, MMX_S, 0, pshufhw),
    ROW_VEC_H(ENC0F(0x70) | PFX_F2, "pshuflw", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSE2, MMX_S, 0, pshuflw),
    MMX_SHIFTS(0x71, 2, "psrlw", psrlw_i),
    MMX_SHIFTS(0x71, 4, "psraw", psraw_i),
    MMX_SHIFTS(0x71, 6, "psllw", psllw_i),
    MMX_SHIFTS(0x72, 2, "psrld", psrld_i),
    MMX_SHIFTS(0x72, 4, "psrad", psrad_i),
    MMX_SHIFTS(0x72, 6, "pslld", pslld_i),
    MMX_SHIFTS(0x73, 2, "psrlq", psrlq_i),
    MMX_SHIFTS(0x73, 6, "psllq", psllq_i),
    ROW_VEC_H(ENC0F(0x73) | PFX_66 | SLASH(3) | MOD_REG, "psrldq", OPND_Ux, OPND_Ib, 0, CPU_SSE2, MMX_S, 0, psrldq),
    ROW_VEC_H(ENC0F(0x73) | PFX_66 | SLASH(7) | MOD_REG, "pslldq", OPND_Ux, OPND_Ib, 0, CPU_SSE2, MMX_S, 0, pslldq),
    MMX_PAIR(0x74, "pcmpeqb", CPU_MMX, pcmpeqb),
    MMX_PAIR(0x75, "pcmpeqw", CPU_MMX, pcmpeqw),
    MMX_PAIR(0x76, "pcmpeqd", CPU_MMX, pcmpeqd),
    ROW_CALL(ENC0F(0x77) | PFX_NP, "emms", 0, 0, 0, CPU_MMX, 0, 0, 0, mmx_emms),

    ROW_VEC(ENC0F(0xC4) | PFX_NP | MOD_REG, "pinsrw", OPND_Pq, OPND_Rd, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pinsrw),
    ROW_VEC(ENC0F(0xC4) | PFX_NP | MOD_MEM, "pinsrw", OPND_Pq, OPND_Mw, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pinsrw),
    ROW_VEC(ENC0F(0xC4) | PFX_66 | MOD_REG, "pinsrw", OPND_Vx, OPND_Rd, OPND_Ib, CPU_SSE2, MMX_S, 0, pinsrw),
    ROW_VEC(ENC0F(0xC4) | PFX_66 | MOD_MEM, "pinsrw", OPND_Vx, OPND_Mw, OPND_Ib, CPU_SSE2, MMX_S, 0, pinsrw),
    ROW_VEC(ENC0F(0xC5) | PFX_NP | MOD_REG, "pextrw", OPND_Gd, OPND_Nq, OPND_Ib, CPU_SSE, MMX_M, 0, mmx_pextrw),
    ROW_VEC_H(ENC0F(0xC5) | PFX_66 | MOD_REG, "pextrw", OPND_Gd, OPND_Ux, OPND_Ib, CPU_SSE2, MMX_S, 0, pextrw),
    ROW_VEC(ENC0F(0xD7) | PFX_NP | MOD_REG, "pmovmskb", OPND_Gd, OPND_Nq, 0, CPU_SSE, MMX_M, 0, mmx_pmovmskb),
    ROW_VEC_H(ENC0F(0xD7) | PFX_66 | MOD_REG, "pmovmskb", OPND_Gd, OPND_Ux, 0, CPU_SSE2, MMX_S, 0, pmovmskb),

    MMX_PAIR(0xD1, "psrlw", CPU_MMX, psrlw),
    MMX_PAIR(0xD2, "psrld", CPU_MMX, psrld),
    MMX_PAIR(0xD3, "psrlq", CPU_MMX, psrlq),
    MMX_PAIR(0xD4, "paddq", CPU_SSE2, paddq),
    MMX_PAIR(0xD5, "pmullw", CPU_MMX, pmullw),
    MMX_PAIR(0xD8, "psubusb", CPU_MMX, psubusb),
    MMX_PAIR(0xD9, "psubusw", CPU_MMX, psubusw),
    MMX_PAIR(0xDA, "pminub", CPU_SSE, pminub),
    MMX_PAIR(0xDB, "pand", CPU_MMX, pand),
    MMX_PAIR(0xDC, "paddusb", CPU_MMX, paddusb),
    MMX_PAIR(0xDD, "paddusw", CPU_MMX, paddusw),
    MMX_PAIR(0xDE, "pmaxub", CPU_SSE, pmaxub),
    MMX_PAIR(0xDF, "pandn", CPU_MMX, pandn),
    MMX_PAIR(0xE0, "pavgb", CPU_SSE, pavgb),
    MMX_PAIR(0xE1, "psraw", CPU_MMX, psraw),
    MMX_PAIR(0xE2, "psrad", CPU_MMX, psrad),
    MMX_PAIR(0xE3, "pavgw", CPU_SSE, pavgw),
    MMX_PAIR(0xE4, "pmulhuw", CPU_SSE, pmulhuw),
    MMX_PAIR(0xE5, "pmulhw", CPU_MMX, pmulhw),
    MMX_PAIR(0xE8, "psubsb", CPU_MMX, psubsb),
    MMX_PAIR(0xE9, "psubsw", CPU_MMX, psubsw),
    MMX_PAIR(0xEA, "pminsw", CPU_SSE, pminsw),
    MMX_PAIR(0xEB, "por", CPU_MMX, por),
    MMX_PAIR(0xEC, "paddsb", CPU_MMX, paddsb),
    MMX_PAIR(0xED, "paddsw", CPU_MMX, paddsw),
    MMX_PAIR(0xEE, "pmaxsw", CPU_SSE, pmaxsw),
    MMX_PAIR(0xEF, "pxor", CPU_MMX, pxor),
    MMX_PAIR(0xF1, "psllw", CPU_MMX, psllw),
    MMX_PAIR(0xF2, "pslld", CPU_MMX, pslld),
    MMX_PAIR(0xF3, "psllq", CPU_MMX, psllq),
    MMX_PAIR(0xF4, "pmuludq", CPU_SSE2, pmuludq),
    MMX_PAIR(0xF5, "pmaddwd", CPU_MMX, pmaddwd),
    MMX_PAIR(0xF6, "psadbw", CPU_SSE, psadbw),
    ROW_CALL(ENC0F(0xF7) | PFX_NP | MOD_REG, "maskmovq", OPND_Pq, OPND_Nq, 0, CPU_SSE, ROW_WRITES_MEM, 0, 0, mmx_maskmovq),
    ROW_CALL(ENC0F(0xF7) | PFX_66 | MOD_REG, "maskmovdqu", OPND_Vx, OPND_Ux, 0, CPU_SSE2, MMX_S | ROW_WRITES_MEM, 0, 0, mmx_maskmovdqu),
    MMX_PAIR(0xF8, "psubb", CPU_MMX, psubb),
    MMX_PAIR(0xF9, "psubw", CPU_MMX, psubw),
    MMX_PAIR(0xFA, "psubd", CPU_MMX, psubd),
    MMX_PAIR(0xFB, "psubq", CPU_SSE2, psubq),
    MMX_PAIR(0xFC, "paddb", CPU_MMX, paddb),
    MMX_PAIR(0xFD, "paddw", CPU_MMX, paddw),
    MMX_PAIR(0xFE, "paddd", CPU_MMX, paddd),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
};
EMU_PRIV const struct insn_row *cpu_rows_mmx(void) { return mmx_rows; }
#undef MMX_M
#undef MMX_S
#undef MMX_PAIR
#undef MMX_SHIFTS
