/* cpu/sse4.c - SSSE3, SSE4.1 and SSE4.2: shuffles and packed integers, dot products, rounding, string comparison, CRC32.
 *
 * Models     SDM vol. 1 chapter 12, vol. 2 (PSHUFB to CRC32; §4.1 for PCMPxSTRx's immediate). POPCNT and MOVBE are integer instructions.
 * Contract   cpu_rows_sse4() gives decode.c the rows; conventions of vec_fn as in cpu.h. Instructions that read or write general registers by
 *            implication (PCMPESTRx, CRC32) are plain C.
 * Invariants as in mmx.c.
 */
#include "../machine.h"
#include "cpu.h"
#include "vec.h"

/* ---- SSSE3 ---- */
VEC_BODY(pshufb, {
    unsigned i;
    for (i = 0; i < bytes; i++) {
        uint8_t k = VB(&vb, i);
        VB(&vr, i) = k & 0x80 ? 0 : VB(&va, k & (bytes - 1));
    }
})
#define SSE4_HORIZONTAL(name, V, size, expr)                                                                           \
    VEC_BODY(name, {                                                                                                   \
        unsigned i, h = bytes / (size) / 2;                                                                            \
        for (i = 0; i < h; i++) {                                                                                      \
            unsigned x = V(&va, 2 * i), y = V(&va, 2 * i + 1);                                                         \
            V(&vr, i) = expr;                                                                                          \
            x = V(&vb, 2 * i), y = V(&vb, 2 * i + 1);                                                                  \
            V(&vr, h + i) = expr;                                                                                      \
        }                                                                                                              \
    })
SSE4_HORIZONTAL(phaddw, VW, 2, (uint16_t)(x + y))
SSE4_HORIZONTAL(phaddd, VD, 4, x + y)
SSE4_HORIZONTAL(phaddsw, VW, 2, (uint16_t)vec_clamp((int16_t)x + (int16_t)y, -32768, 32767))
SSE4_HORIZONTAL(phsubw, VW, 2, (uint16_t)(x - y))
SSE4_HORIZONTAL(phsubd, VD, 4, x - y)
SSE4_HORIZONTAL(phsubsw, VW, 2, (uint16_t)vec_clamp((int16_t)x - (int16_t)y, -32768, 32767))
#undef SSE4_HORIZONTAL
VEC_BODY(pmaddubsw, {
    unsigned i;
    for (i = 0; i < bytes / 2; i++)
        VW(&vr, i) = (uint16_t)vec_clamp(VB(&va, 2 * i) * (int8_t)VB(&vb, 2 * i) + VB(&va, 2 * i + 1) * (int8_t)VB(&vb, 2 * i + 1), -32768, 32767);
})
VEC_LANES(psignb, int8_t, uint8_t, y < 0 ? -x : y ? x : 0)
VEC_LANES(psignw, int16_t, uint16_t, y < 0 ? -x : y ? x : 0)
VEC_LANES(psignd, uint32_t, uint32_t, y >> 31 ? 0u - x : y ? x : 0u)
VEC_LANES(pabsb, int8_t, uint8_t, y < 0 ? -y : y)
VEC_LANES(pabsw, int16_t, uint16_t, y < 0 ? -y : y)
VEC_LANES(pabsd, uint32_t, uint32_t, y >> 31 ? 0u - y : y)
VEC_LANES(pmulhrsw, int16_t, uint16_t, (((uint32_t)((int32_t)x * y) >> 14) + 1) >> 1)
VEC_BODY(palignr, {
    unsigned i;
    for (i = 0; i < bytes; i++) {
        unsigned k = imm + i;
        VB(&vr, i) = k < bytes ? VB(&vb, k) : k < 2 * bytes ? VB(&va, k - bytes) : 0;
    }
})

/* ---- SSE4.1: blends, inserts, extracts, extensions ---- */
VEC_FN(pblendvb)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 16; i++)
        VB(&vr, i) = VB(&c->xmm[0], i) & 0x80 ? VB(&vb, i) : VB(&va, i);
})
VEC_FN(blendvps)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VD(&vr, i) = VD(&c->xmm[0], i) >> 31 ? VD(&vb, i) : VD(&va, i);
})
VEC_FN(blendvpd)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 2; i++)
        VQ(&vr, i) = VQ(&c->xmm[0], i) >> 63 ? VQ(&vb, i) : VQ(&va, i);
})
VEC_FN(blendps)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VD(&vr, i) = imm >> i & 1 ? VD(&vb, i) : VD(&va, i);
})
VEC_FN(blendpd)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 2; i++)
        VQ(&vr, i) = imm >> i & 1 ? VQ(&vb, i) : VQ(&va, i);
})
VEC_FN(pblendw)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 8; i++)
        VW(&vr, i) = imm >> i & 1 ? VW(&vb, i) : VW(&va, i);
})
VEC_FN(ptest)
{
    uint64_t both = (VQ(a, 0) & VQ(b, 0)) | (VQ(a, 1) & VQ(b, 1)), rest = (~VQ(a, 0) & VQ(b, 0)) | (~VQ(a, 1) & VQ(b, 1));
    (void)d, (void)imm;
    cpu_set_arith_flags(c, (both ? 0u : FLAG_ZF) | (rest ? 0u : FLAG_CF));
    return CPU_OK;
}
#define SSE4_EXTEND(name, V, from, to, U)                                                                              \
    VEC_FN(pmovsx##name)                                                                                               \
    VEC_BODY_N(16, {                                                                                                   \
        unsigned i;                                                                                                    \
        for (i = 0; i < 16 / sizeof(to); i++)                                                                          \
            U(&vr, i) = (to)sext64(V(&vb, i), 8 * sizeof(from));                                                       \
    })                                                                                                                 \
    VEC_FN(pmovzx##name)                                                                                               \
    VEC_BODY_N(16, {                                                                                                   \
        unsigned i;                                                                                                    \
        for (i = 0; i < 16 / sizeof(to); i++)                                                                          \
            U(&vr, i) = V(&vb, i);                                                                                     \
    })
SSE4_EXTEND(bw, VB, uint8_t, uint16_t, VW)
SSE4_EXTEND(bd, VB, uint8_t, uint32_t, VD)
SSE4_EXTEND(bq, VB, uint8_t, uint64_t, VQ)
SSE4_EXTEND(wd, VW, uint16_t, uint32_t, VD)
SSE4_EXTEND(wq, VW, uint16_t, uint64_t, VQ)
SSE4_EXTEND(dq, VD, uint32_t, uint64_t, VQ)
#undef SSE4_EXTEND
VEC_FN(pextrb)
{
    (void)c, (void)a;
    VQ(d, 0) = VB(b, imm & 15);
    return CPU_OK;
}
VEC_FN(sse4_pextrw)
{
    (void)c, (void)a;
    VQ(d, 0) = VW(b, imm & 7);
    return CPU_OK;
}
VEC_FN(pextrd)
{
    (void)c, (void)a;
    VQ(d, 0) = VD(b, imm & 3);
    return CPU_OK;
}
VEC_FN(pextrq)
{
    (void)c, (void)a;
    VQ(d, 0) = VQ(b, imm & 1);
    return CPU_OK;
}
VEC_FN(pinsrb)
{
    (void)c, (void)a;
    VB(d, imm & 15) = VB(b, 0);
    return CPU_OK;
}
VEC_FN(pinsrd)
{
    (void)c, (void)a;
    VD(d, imm & 3) = VD(b, 0);
    return CPU_OK;
}
VEC_FN(pinsrq)
{
    (void)c, (void)a;
    VQ(d, imm & 1) = VQ(b, 0);
    return CPU_OK;
}
static int sse4_insertps(union vec *d, uint32_t value, unsigned imm)
{
    unsigned i;
    VD(d, imm >> 4 & 3) = value;
    for (i = 0; i < 4; i++)
        if (imm >> i & 1)
            VD(d, i) = 0;
    return CPU_OK;
}
VEC_FN(insertps) { return (void)c, (void)a, sse4_insertps(d, VD(b, imm >> 6 & 3), imm); }
VEC_FN(insertps_m) { return (void)c, (void)a, sse4_insertps(d, VD(b, 0), imm); }
VEC_FN(sse4_mov128)
{
    (void)c, (void)a, (void)imm;
    memmove(d, b, 16);
    return CPU_OK;
}

/* ---- SSE4.1, SSE4.2: packed integers ---- */
#define SSE4_LANES(name, T, R, expr) VEC_FN(name) VEC_LANES_N(T, R, 16, expr)
SSE4_LANES(pcmpeqq, uint64_t, uint64_t, x == y ? UINT64_MAX : 0)
SSE4_LANES(pcmpgtq, int64_t, uint64_t, x > y ? UINT64_MAX : 0)
SSE4_LANES(pminsb, int8_t, int8_t, x < y ? x : y)
SSE4_LANES(pmaxsb, int8_t, int8_t, x > y ? x : y)
SSE4_LANES(pminuw, uint16_t, uint16_t, x < y ? x : y)
SSE4_LANES(pmaxuw, uint16_t, uint16_t, x > y ? x : y)
SSE4_LANES(pminsd, int32_t, int32_t, x < y ? x : y)
SSE4_LANES(pmaxsd, int32_t, int32_t, x > y ? x : y)
SSE4_LANES(pminud, uint32_t, uint32_t, x < y ? x : y)
SSE4_LANES(pmaxud, uint32_t, uint32_t, x > y ? x : y)
SSE4_LANES(pmulld, uint32_t, uint32_t, x * y)
SSE4_LANES(pmuldq, uint64_t, uint64_t, (uint64_t)sext64(x, 32) * (uint64_t)sext64(y, 32))
#undef SSE4_LANES
VEC_FN(packusdw)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++) {
        VW(&vr, i) = (uint16_t)vec_clamp((int32_t)VD(&va, i), 0, 65535);
        VW(&vr, 4 + i) = (uint16_t)vec_clamp((int32_t)VD(&vb, i), 0, 65535);
    }
})
VEC_FN(phminposuw)
VEC_BODY_N(16, {
    unsigned i, best = 0;
    for (i = 1; i < 8; i++)
        if (VW(&vb, i) < VW(&vb, best))
            best = i;
    VQ(&vr, 0) = VW(&vb, best) | best << 16;
    VQ(&vr, 1) = 0;
})
VEC_FN(mpsadbw)
VEC_BODY_N(16, {
    unsigned i, k, first = imm >> 2 & 1 ? 4 : 0, block = (imm & 3) * 4;
    for (i = 0; i < 8; i++) {
        unsigned sum = 0;
        for (k = 0; k < 4; k++) {
            int diff = VB(&va, first + i + k) - VB(&vb, block + k);
            sum += (unsigned)(diff < 0 ? -diff : diff);
        }
        VW(&vr, i) = (uint16_t)sum;
    }
})

/* ---- SSE4.1: floating point ---- */
static uint64_t sse4_round_one(struct sf_env *env, const struct sf_format *f, uint64_t bits, unsigned imm)
{
    struct sf_num n = sf_unpack(env, f, bits);
    uint8_t flags = env->flags;
    n = sf_round_int(env, &n, imm & 4 ? env->rounding : imm & 3);
    if (imm & 8)
        env->flags = (uint8_t)((env->flags & ~SF_PE) | flags);
    return sf_pack(f, &n);
}
static int sse4_round32(struct cpu *c, union vec *d, const union vec *b, unsigned imm, unsigned lanes)
{
    struct sf_env env;
    uint32_t r[4];
    unsigned i;
    int fault;
    sse_env(c, &env);
    for (i = 0; i < lanes; i++)
        r[i] = (uint32_t)sse4_round_one(&env, &sf_f32, VD(b, i), imm);
    fault = sse_raise(c, &env);
    for (i = 0; i < lanes && !fault; i++)
        VD(d, i) = r[i];
    return fault;
}
static int sse4_round64(struct cpu *c, union vec *d, const union vec *b, unsigned imm, unsigned lanes)
{
    struct sf_env env;
    uint64_t r[2];
    unsigned i;
    int fault;
    sse_env(c, &env);
    for (i = 0; i < lanes; i++)
        r[i] = sse4_round_one(&env, &sf_f64, VQ(b, i), imm);
    fault = sse_raise(c, &env);
    for (i = 0; i < lanes && !fault; i++)
        VQ(d, i) = r[i];
    return fault;
}
VEC_FN(roundps) { return (void)a, sse4_round32(c, d, b, imm, 4); }
VEC_FN(roundss) { return (void)a, sse4_round32(c, d, b, imm, 1); }
VEC_FN(roundpd) { return (void)a, sse4_round64(c, d, b, imm, 2); }
VEC_FN(roundsd) { return (void)a, sse4_round64(c, d, b, imm, 1); }

/* Dot products: imm 7:4 chooses the products, imm 3:0 where the sum goes. Each of the steps raises its exceptions in turn. Every lane
 * adds in its own order, which shows where two products are NaNs. */
VEC_FN(dpps)
{
    struct sf_env env;
    uint32_t p[4], t[4], s[4];
    unsigned i;
    int fault;
    sse_env(c, &env);
    for (i = 0; i < 4; i++)
        p[i] = imm >> (4 + i) & 1 ? (uint32_t)sf_element(&env, &sf_f32, SF_OP_MUL, VD(a, i), VD(b, i)) : 0;
    if ((fault = sse_raise(c, &env)) != CPU_OK)
        return fault;
    sse_env(c, &env);
    for (i = 0; i < 4; i++)
        t[i] = (uint32_t)sf_element(&env, &sf_f32, SF_OP_ADD, p[i ^ 1], p[i]);
    if ((fault = sse_raise(c, &env)) != CPU_OK)
        return fault;
    sse_env(c, &env);
    for (i = 0; i < 4; i++)
        s[i] = (uint32_t)sf_element(&env, &sf_f32, SF_OP_ADD, t[i], t[i ^ 2]);
    if ((fault = sse_raise(c, &env)) != CPU_OK)
        return fault;
    for (i = 0; i < 4; i++)
        VD(d, i) = imm >> i & 1 ? s[i] : 0;
    return CPU_OK;
}
VEC_FN(dppd)
{
    struct sf_env env;
    uint64_t p[2], s[2];
    unsigned i;
    int fault;
    sse_env(c, &env);
    for (i = 0; i < 2; i++)
        p[i] = imm >> (4 + i) & 1 ? sf_element(&env, &sf_f64, SF_OP_MUL, VQ(a, i), VQ(b, i)) : 0;
    if ((fault = sse_raise(c, &env)) != CPU_OK)
        return fault;
    sse_env(c, &env);
    for (i = 0; i < 2; i++)
        s[i] = sf_element(&env, &sf_f64, SF_OP_ADD, p[i], p[i ^ 1]);
    if ((fault = sse_raise(c, &env)) != CPU_OK)
        return fault;
    for (i = 0; i < 2; i++)
        VQ(d, i) = imm >> i & 1 ? s[i] : 0;
    return CPU_OK;
}

/* ---- SSE4.2: string comparison ---- */

/* Element n of v: bytes or words, signed or not, by imm 1:0. */
static int sse4_element(const union vec *v, unsigned n, unsigned imm)
{
    switch (imm & 3) {
    case 0: return VB(v, n);
    case 1: return VW(v, n);
    case 2: return (int8_t)VB(v, n);
    default: return (int16_t)VW(v, n);
    }
}
static unsigned sse4_implicit_length(const union vec *v, unsigned imm, unsigned count)
{
    unsigned n = 0;
    while (n < count && sse4_element(v, n, imm))
        n++;
    return n;
}
static unsigned sse4_explicit_length(uint64_t reg, bool wide, unsigned count)
{
    uint64_t v = wide ? reg : (uint64_t)sext64(reg, 32);
    if (v >> 63)
        v = 0 - v;
    return v > count ? count : (unsigned)v;
}
/* IntRes1 by aggregation, then polarity: SDM vol. 2 §4.1.5 to 4.1.6. la, lb: valid elements of a and b. */
static unsigned sse4_aggregate(const union vec *a, unsigned la, const union vec *b, unsigned lb, unsigned imm, unsigned count)
{
    unsigned i, j, res = 0, all = (1u << count) - 1;
    for (j = 0; j < count; j++) { /* element of b: bit of the result */
        bool bit = false;
        int y = sse4_element(b, j, imm);
        switch (imm >> 2 & 3) {
        case 0: /* equal any */
            for (i = 0; i < la && j < lb; i++)
                bit |= sse4_element(a, i, imm) == y;
            break;
        case 1: /* ranges */
            for (i = 0; i + 1 < la && j < lb; i += 2)
                bit |= sse4_element(a, i, imm) <= y && y <= sse4_element(a, i + 1, imm);
            break;
        case 2: /* equal each; past both ends counts as equal */
            bit = j < la && j < lb ? sse4_element(a, j, imm) == y : j >= la && j >= lb;
            break;
        default: /* equal ordered: a as a prefix of b from j on */
            bit = true;
            for (i = 0; i < la && i + j < count; i++)
                bit &= i + j < lb && sse4_element(a, i, imm) == sse4_element(b, i + j, imm);
            break;
        }
        res |= (unsigned)bit << j;
    }
    if (imm & 0x10)
        res ^= imm & 0x20 ? (1u << lb) - 1 : all;
    return res;
}
static int sse4_string(struct cpu *c, const struct insn *i, bool explicit_length, bool to_index)
{
    union vec mem;
    const union vec *a = &c->xmm[i->reg], *b = &c->xmm[i->rm];
    unsigned imm = (unsigned)i->imm & 0xFF, count = imm & 1 ? 8 : 16, la, lb, res, flags = 0;
    bool wide = i->rex & 8;
    if (i->memory) {
        uint8_t bytes[16];
        int r = cpu_load_bytes(c, i->seg, insn_address(c, i), bytes, 16);
        if (r)
            return r;
        memset(&mem, 0, sizeof mem);
        VQ(&mem, 0) = ld64le(bytes);
        VQ(&mem, 1) = ld64le(bytes + 8);
        b = &mem;
    }
    la = explicit_length ? sse4_explicit_length(c->gpr[GPR_RAX], wide, count) : sse4_implicit_length(a, imm, count);
    lb = explicit_length ? sse4_explicit_length(c->gpr[GPR_RDX], wide, count) : sse4_implicit_length(b, imm, count);
    res = sse4_aggregate(a, la, b, lb, imm, count);
    if (to_index) {
        c->gpr[GPR_RCX] = !res ? count : imm & 0x40 ? 63 - clz64(res) : ctz64(res);
    } else {
        union vec *d = &c->xmm[0];
        unsigned k;
        VQ(d, 0) = imm & 0x40 ? 0 : res;
        VQ(d, 1) = 0;
        for (k = 0; (imm & 0x40) && k < count; k++) {
            if (imm & 1)
                VW(d, k) = res >> k & 1 ? 0xFFFF : 0;
            else
                VB(d, k) = res >> k & 1 ? 0xFF : 0;
        }
    }
    flags = (res ? FLAG_CF : 0u) | (lb < count ? FLAG_ZF : 0u) | (la < count ? FLAG_SF : 0u) | (res & 1 ? FLAG_OF : 0u);
    cpu_set_arith_flags(c, flags);
    return CPU_OK;
}
static int sse4_pcmpestrm(struct cpu *c, const struct insn *i) { return sse4_string(c, i, true, false); }
static int sse4_pcmpestri(struct cpu *c, const struct insn *i) { return sse4_string(c, i, true, true); }
static int sse4_pcmpistrm(struct cpu *c, const struct insn *i) { return sse4_string(c, i, false, false); }
static int sse4_pcmpistri(struct cpu *c, const struct insn *i) { return sse4_string(c, i, false, true); }

/* ---- CRC32: polynomial 11EDC6F41h, bits reflected ---- */
static int sse4_crc32(struct cpu *c, const struct insn *i)
{
    unsigned size = i->opcode == 0xF0 ? 1 : i->opsize, bit;
    uint32_t crc = (uint32_t)c->gpr[i->reg];
    uint64_t v;
    int r = insn_load_rm(c, i, size, &v);
    if (r)
        return r;
    for (; size; size--, v >>= 8) {
        crc ^= (uint32_t)(v & 0xFF);
        for (bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ UINT32_C(0x82F63B78) : crc >> 1;
    }
    c->gpr[i->reg] = crc;
    return CPU_OK;
}

/* ---- the table ---- */
#define SSE4_PAIR(op, name, fn)                                                                                        \
    ROW_VEC(ENC0F38(op) | PFX_NP, name, OPND_Pq, OPND_Qq, 0, CPU_SSSE3, ROW_MMX, 0, mmx_##fn),                         \
    ROW_VEC(ENC0F38(op) | PFX_66, name, OPND_Vx, OPND_Wx, 0, CPU_SSSE3, ROW_SSE, 0, fn)
#define SSE4_1(op, name, w, fn) ROW_VEC(ENC0F38(op) | PFX_66, name, OPND_Vx, OPND_##w, 0, CPU_SSE41, ROW_SSE, 0, fn)
#define SSE4_1I(op, name, d, w, fn) ROW_VEC(ENC0F3A(op) | PFX_66, name, OPND_##d, OPND_##w, OPND_Ib, CPU_SSE41, ROW_SSE, 0, fn)
#define SSE4_X(op, mod, name, d, w, attr, fn) ROW_VEC(ENC0F3A(op) | PFX_66 | mod, name, OPND_##d, OPND_##w, OPND_Ib, CPU_SSE41, ROW_SSE | attr, 0, fn)
#define SSE4_STR(op, name, fn)                                                                                         \
    ROW_CALL(ENC0F3A(op) | PFX_66, name, OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSE42, ROW_SSE | ROW_UNALIGNED, 0, FLAGS_ARITH, fn)

static const struct insn_row sse4_rows[] = {
    SSE4_PAIR(0x00, "pshufb", pshufb),
    SSE4_PAIR(0x01, "phaddw", phaddw),
    SSE4_PAIR(0x02, "phaddd", phaddd),
    SSE4_PAIR(0x03, "phaddsw", phaddsw),
    SSE4_PAIR(0x04, "pmaddubsw", pmaddubsw),
    SSE4_PAIR(0x05, "phsubw", phsubw),
    SSE4_PAIR(0x06, "phsubd", phsubd),
    SSE4_PAIR(0x07, "phsubsw", phsubsw),
    SSE4_PAIR(0x08, "psignb", psignb),
    SSE4_PAIR(0x09, "psignw", psignw),
    SSE4_PAIR(0x0A, "psignd", psignd),
    SSE4_PAIR(0x0B, "pmulhrsw", pmulhrsw),
    SSE4_PAIR(0x1C, "pabsb", pabsb),
    SSE4_PAIR(0x1D, "pabsw", pabsw),
    SSE4_PAIR(0x1E, "pabsd", pabsd),
    ROW_VEC(ENC0F3A(0x0F) | PFX_NP, "palignr", OPND_Pq, OPND_Qq, OPND_Ib, CPU_SSSE3, ROW_MMX, 0, mmx_palignr),
    ROW_VEC(ENC0F3A(0x0F) | PFX_66, "palignr", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SSSE3, ROW_SSE, 0, palignr),

    SSE4_1(0x10, "pblendvb", Wx, pblendvb),
    SSE4_1(0x14, "blendvps", Wx, blendvps),
    SSE4_1(0x15, "blendvpd", Wx, blendvpd),
    ROW_VEC(ENC0F38(0x17) | PFX_66, "ptest", OPND_Vx, OPND_Wx, 0, CPU_SSE41, ROW_SSE, FLAGS_ARITH, ptest),
    SSE4_1(0x20, "pmovsxbw", Wq, pmovsxbw),
    SSE4_1(0x21, "pmovsxbd", Wd, pmovsxbd),
    SSE4_1(0x22, "pmovsxbq", Ww, pmovsxbq),
    SSE4_1(0x23, "pmovsxwd", Wq, pmovsxwd),
    SSE4_1(0x24, "pmovsxwq", Wd, pmovsxwq),
    SSE4_1(0x25, "pmovsxdq", Wq, pmovsxdq),
    SSE4_1(0x28, "pmuldq", Wx, pmuldq),
    SSE4_1(0x29, "pcmpeqq", Wx, pcmpeqq),
    ROW_VEC(ENC0F38(0x2A) | PFX_66 | MOD_MEM, "movntdqa", OPND_Vx, OPND_Wx, 0, CPU_SSE41, ROW_SSE, 0, sse4_mov128),
    SSE4_1(0x2B, "packusdw", Wx, packusdw),
    SSE4_1(0x30, "pmovzxbw", Wq, pmovzxbw),
    SSE4_1(0x31, "pmovzxbd", Wd, pmovzxbd),
    SSE4_1(0x32, "pmovzxbq", Ww, pmovzxbq),
    SSE4_1(0x33, "pmovzxwd", Wq, pmovzxwd),
    SSE4_1(0x34, "pmovzxwq", Wd, pmovzxwq),
    SSE4_1(0x35, "pmovzxdq", Wq, pmovzxdq),
    ROW_VEC(ENC0F38(0x37) | PFX_66, "pcmpgtq", OPND_Vx, OPND_Wx, 0, CPU_SSE42, ROW_SSE, 0, pcmpgtq),
    SSE4_1(0x38, "pminsb", Wx, pminsb),
    SSE4_1(0x39, "pminsd", Wx, pminsd),
    SSE4_1(0x3A, "pminuw", Wx, pminuw),
    SSE4_1(0x3B, "pminud", Wx, pminud),
    SSE4_1(0x3C, "pmaxsb", Wx, pmaxsb),
    SSE4_1(0x3D, "pmaxsd", Wx, pmaxsd),
    SSE4_1(0x3E, "pmaxuw", Wx, pmaxuw),
    SSE4_1(0x3F, "pmaxud", Wx, pmaxud),
    SSE4_1(0x40, "pmulld", Wx, pmulld),
    SSE4_1(0x41, "phminposuw", Wx, phminposuw),

    SSE4_1I(0x08, "roundps", Vx, Wx, roundps),
    SSE4_1I(0x09, "roundpd", Vx, Wx, roundpd),
    SSE4_1I(0x0A, "roundss", Vx, Wd, roundss),
    SSE4_1I(0x0B, "roundsd", Vx, Wq, roundsd),
    SSE4_1I(0x0C, "blendps", Vx, Wx, blendps),
    SSE4_1I(0x0D, "blendpd", Vx, Wx, blendpd),
    SSE4_1I(0x0E, "pblendw", Vx, Wx, pblendw),
    SSE4_X(0x14, MOD_REG, "pextrb", Rd, Vx, 0, pextrb),
    SSE4_X(0x14, MOD_MEM, "pextrb", Mb, Vx, ROW_WRITES_MEM, pextrb),
    SSE4_X(0x15, MOD_REG, "pextrw", Rd, Vx, 0, sse4_pextrw),
    SSE4_X(0x15, MOD_MEM, "pextrw", Mw, Vx, ROW_WRITES_MEM, sse4_pextrw),
    SSE4_X(0x16, W0, "pextrd", Ed, Vx, ROW_WRITES_MEM, pextrd),
    SSE4_X(0x16, W1, "pextrq", Eq, Vx, ROW_WRITES_MEM, pextrq),
    SSE4_X(0x17, 0, "extractps", Ed, Vx, ROW_WRITES_MEM, pextrd),
    SSE4_X(0x20, MOD_REG, "pinsrb", Vx, Rd, 0, pinsrb),
    SSE4_X(0x20, MOD_MEM, "pinsrb", Vx, Mb, 0, pinsrb),
    SSE4_X(0x21, MOD_REG, "insertps", Vx, Ux, 0, insertps),
    SSE4_X(0x21, MOD_MEM, "insertps", Vx, Wd, 0, insertps_m),
    SSE4_X(0x22, W0, "pinsrd", Vx, Ed, 0, pinsrd),
    SSE4_X(0x22, W1, "pinsrq", Vx, Eq, 0, pinsrq),
    SSE4_1I(0x40, "dpps", Vx, Wx, dpps),
    SSE4_1I(0x41, "dppd", Vx, Wx, dppd),
    SSE4_1I(0x42, "mpsadbw", Vx, Wx, mpsadbw),
    SSE4_STR(0x60, "pcmpestrm", sse4_pcmpestrm),
    SSE4_STR(0x61, "pcmpestri", sse4_pcmpestri),
    SSE4_STR(0x62, "pcmpistrm", sse4_pcmpistrm),
    SSE4_STR(0x63, "pcmpistri", sse4_pcmpistri),
    ROW_CALL(ENC0F38(0xF0) | PFX_F2, "crc32", OPND_Gd, OPND_Eb, 0, CPU_SSE42, 0, 0, 0, sse4_crc32),
    ROW_CALL(ENC0F38(0xF1) | PFX_F2, "crc32", OPND_Gd, OPND_Ev, 0, CPU_SSE42, 0, 0, 0, sse4_crc32),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
};
EMU_PRIV const struct insn_row *cpu_rows_sse4(void) { return sse4_rows; }
#undef SSE4_PAIR
#undef SSE4_1
#undef SSE4_1I
#undef SSE4_X
#undef SSE4_STR
