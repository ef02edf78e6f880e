/* cpu/crypto.c - AES, carry-less multiplication, SHA-1 and SHA-256 rounds.
 *
 * Models     FIPS 197 (AESENC .. AESKEYGENASSIST, SDM vol. 1 §12.13), FIPS 180-4 (SHA1*, SHA256*), SDM vol. 2 PCLMULQDQ.
 * Contract   cpu_rows_crypto() gives decode.c the rows; conventions of vec_fn as in cpu.h.
 * Theory     AES: byte 4 c + r of the register is row r of column c, so a doubleword is a column with row 0 lowest; MixColumns works on
 *            the four bytes of a column at once. Tables are of constants, indexed by guest data: not meant to be constant-time.
 * Invariants as in mmx.c.
 */
#include "../machine.h"
#include "cpu.h"
#include "vec.h"

/* FIPS 197 §5.1.1: inverse in GF(2^8), then the affine map; and the inverse table. */
static const uint8_t crypto_sbox[256] = {
    0x63, 0x7C, 0x77, 0x7B, 0xF2, 0x6B, 0x6F, 0xC5, 0x30, 0x01, 0x67, 0x2B, 0xFE, 0xD7, 0xAB, 0x76, 0xCA, 0x82, 0xC9, 0x7D, 0xFA, 0x59, 0x47, 0xF0,
    0xAD, 0xD4, 0xA2, 0xAF, 0x9C, 0xA4, 0x72, 0xC0, 0xB7, 0xFD, 0x93, 0x26, 0x36, 0x3F, 0xF7, 0xCC, 0x34, 0xA5, 0xE5, 0xF1, 0x71, 0xD8, 0x31, 0x15,
    0x04, 0xC7, 0x23, 0xC3, 0x18, 0x96, 0x05, 0x9A, 0x07, 0x12, 0x80, 0xE2, 0xEB, 0x27, 0xB2, 0x75, 0x09, 0x83, 0x2C, 0x1A, 0x1B, 0x6E, 0x5A, 0xA0,
    0x52, 0x3B, 0xD6, 0xB3, 0x29, 0xE3, 0x2F, 0x84, 0x53, 0xD1, 0x00, 0xED, 0x20, 0xFC, 0xB1, 0x5B, 0x6A, 0xCB, 0xBE, 0x39, 0x4A, 0x4C, 0x58, 0xCF,
    0xD0, 0xEF, 0xAA, 0xFB, 0x43, 0x4D, 0x33, 0x85, 0x45, 0xF9, 0x02, 0x7F, 0x50, 0x3C, 0x9F, 0xA8, 0x51, 0xA3, 0x40, 0x8F, 0x92, 0x9D, 0x38, 0xF5,
    0xBC, 0xB6, 0xDA, 0x21, 0x10, 0xFF, 0xF3, 0xD2, 0xCD, 0x0C, 0x13, 0xEC, 0x5F, 0x97, 0x44, 0x17, 0xC4, 0xA7, 0x7E, 0x3D, 0x64, 0x5D, 0x19, 0x73,
    0x60, 0x81, 0x4F, 0xDC, 0x22, 0x2A, 0x90, 0x88, 0x46, 0xEE, 0xB8, 0x14, 0xDE, 0x5E, 0x0B, 0xDB, 0xE0, 0x32, 0x3A, 0x0A, 0x49, 0x06, 0x24, 0x5C,
    0xC2, 0xD3, 0xAC, 0x62, 0x91, 0x95, 0xE4, 0x79, 0xE7, 0xC8, 0x37, 0x6D, 0x8D, 0xD5, 0x4E, 0xA9, 0x6C, 0x56, 0xF4, 0xEA, 0x65, 0x7A, 0xAE, 0x08,
    0xBA, 0x78, 0x25, 0x2E, 0x1C, 0xA6, 0xB4, 0xC6, 0xE8, 0xDD, 0x74, 0x1F, 0x4B, 0xBD, 0x8B, 0x8A, 0x70, 0x3E, 0xB5, 0x66, 0x48, 0x03, 0xF6, 0x0E,
    0x61, 0x35, 0x57, 0xB9, 0x86, 0xC1, 0x1D, 0x9E, 0xE1, 0xF8, 0x98, 0x11, 0x69, 0xD9, 0x8E, 0x94, 0x9B, 0x1E, 0x87, 0xE9, 0xCE, 0x55, 0x28, 0xDF,
    0x8C, 0xA1, 0x89, 0x0D, 0xBF, 0xE6, 0x42, 0x68, 0x41, 0x99, 0x2D, 0x0F, 0xB0, 0x54, 0xBB, 0x16,
};
static const uint8_t crypto_inv_sbox[256] = {
    0x52, 0x09, 0x6A, 0xD5, 0x30, 0x36, 0xA5, 0x38, 0xBF, 0x40, 0xA3, 0x9E, 0x81, 0xF3, 0xD7, 0xFB, 0x7C, 0xE3, 0x39, 0x82, 0x9B, 0x2F, 0xFF, 0x87,
    0x34, 0x8E, 0x43, 0x44, 0xC4, 0xDE, 0xE9, 0xCB, 0x54, 0x7B, 0x94, 0x32, 0xA6, 0xC2, 0x23, 0x3D, 0xEE, 0x4C, 0x95, 0x0B, 0x42, 0xFA, 0xC3, 0x4E,
    0x08, 0x2E, 0xA1, 0x66, 0x28, 0xD9, 0x24, 0xB2, 0x76, 0x5B, 0xA2, 0x49, 0x6D, 0x8B, 0xD1, 0x25, 0x72, 0xF8, 0xF6, 0x64, 0x86, 0x68, 0x98, 0x16,
    0xD4, 0xA4, 0x5C, 0xCC, 0x5D, 0x65, 0xB6, 0x92, 0x6C, 0x70, 0x48, 0x50, 0xFD, 0xED, 0xB9, 0xDA, 0x5E, 0x15, 0x46, 0x57, 0xA7, 0x8D, 0x9D, 0x84,
    0x90, 0xD8, 0xAB, 0x00, 0x8C, 0xBC, 0xD3, 0x0A, 0xF7, 0xE4, 0x58, 0x05, 0xB8, 0xB3, 0x45, 0x06, 0xD0, 0x2C, 0x1E, 0x8F, 0xCA, 0x3F, 0x0F, 0x02,
    0xC1, 0xAF, 0xBD, 0x03, 0x01, 0x13, 0x8A, 0x6B, 0x3A, 0x91, 0x11, 0x41, 0x4F, 0x67, 0xDC, 0xEA, 0x97, 0xF2, 0xCF, 0xCE, 0xF0, 0xB4, 0xE6, 0x73,
    0x96, 0xAC, 0x74, 0x22, 0xE7, 0xAD, 0x35, 0x85, 0xE2, 0xF9, 0x37, 0xE8, 0x1C, 0x75, 0xDF, 0x6E, 0x47, 0xF1, 0x1A, 0x71, 0x1D, 0x29, 0xC5, 0x89,
    0x6F, 0xB7, 0x62, 0x0E, 0xAA, 0x18, 0xBE, 0x1B, 0xFC, 0x56, 0x3E, 0x4B, 0xC6, 0xD2, 0x79, 0x20, 0x9A, 0xDB, 0xC0, 0xFE, 0x78, 0xCD, 0x5A, 0xF4,
    0x1F, 0xDD, 0xA8, 0x33, 0x88, 0x07, 0xC7, 0x31, 0xB1, 0x12, 0x10, 0x59, 0x27, 0x80, 0xEC, 0x5F, 0x60, 0x51, 0x7F, 0xA9, 0x19, 0xB5, 0x4A, 0x0D,
    0x2D, 0xE5, 0x7A, 0x9F, 0x93, 0xC9, 0x9C, 0xEF, 0xA0, 0xE0, 0x3B, 0x4D, 0xAE, 0x2A, 0xF5, 0xB0, 0xC8, 0xEB, 0xBB, 0x3C, 0x83, 0x53, 0x99, 0x61,
    0x17, 0x2B, 0x04, 0x7E, 0xBA, 0x77, 0xD6, 0x26, 0xE1, 0x69, 0x14, 0x63, 0x55, 0x21, 0x0C, 0x7D,
};

static uint32_t crypto_ror(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }
static uint32_t crypto_rol(uint32_t x, unsigned n) { return x << n | x >> (32 - n); }

/* ---- AES ---- */
static uint32_t crypto_double(uint32_t w) /* each byte times x in GF(2^8) */
{
    return (w << 1 & 0xFEFEFEFEu) ^ (w >> 7 & 0x01010101u) * 0x1Bu;
}
static uint32_t crypto_mix(uint32_t w)
{
    uint32_t w2 = crypto_double(w);
    return w2 ^ crypto_ror(w ^ w2, 8) ^ crypto_ror(w, 16) ^ crypto_ror(w, 24);
}
static uint32_t crypto_inv_mix(uint32_t w) /* the matrix of MixColumns times (5, 0, 4, 0) */
{
    uint32_t w4 = crypto_double(crypto_double(w ^ crypto_ror(w, 16)));
    return crypto_mix(w ^ w4);
}
static void crypto_aes(union vec *d, const union vec *a, const union vec *key, bool inverse, bool last)
{
    const uint8_t *box = inverse ? crypto_inv_sbox : crypto_sbox;
    const union vec state = *a, round_key = *key;
    unsigned col, row;
    for (col = 0; col < 4; col++) {
        uint32_t w = 0;
        for (row = 0; row < 4; row++)
            w |= (uint32_t)box[VB(&state, 4 * ((col + (inverse ? 4 - row : row)) & 3) + row)] << (8 * row);
        if (!last)
            w = inverse ? crypto_inv_mix(w) : crypto_mix(w);
        VD(d, col) = w ^ VD(&round_key, col);
    }
}
VEC_FN(aesenc) { return (void)c, (void)imm, crypto_aes(d, a, b, false, false), CPU_OK; }
VEC_FN(aesenclast) { return (void)c, (void)imm, crypto_aes(d, a, b, false, true), CPU_OK; }
VEC_FN(aesdec) { return (void)c, (void)imm, crypto_aes(d, a, b, true, false), CPU_OK; }
VEC_FN(aesdeclast) { return (void)c, (void)imm, crypto_aes(d, a, b, true, true), CPU_OK; }
VEC_FN(aesimc)
VEC_BODY_N(16, {
    unsigned i;
    for (i = 0; i < 4; i++)
        VD(&vr, i) = crypto_inv_mix(VD(&vb, i));
})
static uint32_t crypto_sub_word(uint32_t w)
{
    return crypto_sbox[w & 0xFF] | (uint32_t)crypto_sbox[w >> 8 & 0xFF] << 8 | (uint32_t)crypto_sbox[w >> 16 & 0xFF] << 16 |
           (uint32_t)crypto_sbox[w >> 24] << 24;
}
VEC_FN(aeskeygenassist)
VEC_BODY_N(16, {
    VD(&vr, 0) = crypto_sub_word(VD(&vb, 1));
    VD(&vr, 1) = crypto_ror(VD(&vr, 0), 8) ^ (imm & 0xFF);
    VD(&vr, 2) = crypto_sub_word(VD(&vb, 3));
    VD(&vr, 3) = crypto_ror(VD(&vr, 2), 8) ^ (imm & 0xFF);
})

/* ---- PCLMULQDQ ---- */
VEC_FN(pclmulqdq)
{
    uint64_t x = VQ(a, imm & 1), y = VQ(b, imm >> 4 & 1), lo = 0, hi = 0;
    unsigned i;
    (void)c;
    for (i = 0; i < 64; i++) {
        uint64_t mask = 0 - (y >> i & 1);
        lo ^= x << i & mask;
        if (i)
            hi ^= x >> (64 - i) & mask;
    }
    VQ(d, 0) = lo;
    VQ(d, 1) = hi;
    return CPU_OK;
}

/* ---- SHA-1 ---- */
static uint32_t crypto_ch(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (~x & z); }
static uint32_t crypto_maj(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (x & z) ^ (y & z); }
VEC_FN(sha1rnds4)
{
    static const uint32_t k[4] = { 0x5A827999u, 0x6ED9EBA1u, 0x8F1BBCDCu, 0xCA62C1D6u }; /* FIPS 180-4 §4.2.1 */
    uint32_t s[5], w[4], f;
    unsigned i;
    (void)c;
    for (i = 0; i < 4; i++) {
        s[i] = VD(a, 3 - i);
        w[i] = VD(b, 3 - i);
    }
    s[4] = 0; /* E is already in the first word */
    imm &= 3;
    for (i = 0; i < 4; i++) {
        f = imm == 0 ? crypto_ch(s[1], s[2], s[3]) : imm == 2 ? crypto_maj(s[1], s[2], s[3]) : s[1] ^ s[2] ^ s[3];
        f += crypto_rol(s[0], 5) + w[i] + s[4] + k[imm];
        s[4] = s[3];
        s[3] = s[2];
        s[2] = crypto_rol(s[1], 30);
        s[1] = s[0];
        s[0] = f;
    }
    for (i = 0; i < 4; i++)
        VD(d, 3 - i) = s[i];
    return CPU_OK;
}
VEC_FN(sha1nexte)
VEC_BODY_N(16, {
    vr = vb;
    VD(&vr, 3) = VD(&vb, 3) + crypto_rol(VD(&va, 3), 30);
})
VEC_FN(sha1msg1)
VEC_BODY_N(16, {
    VD(&vr, 3) = VD(&va, 1) ^ VD(&va, 3);
    VD(&vr, 2) = VD(&va, 0) ^ VD(&va, 2);
    VD(&vr, 1) = VD(&vb, 3) ^ VD(&va, 1);
    VD(&vr, 0) = VD(&vb, 2) ^ VD(&va, 0);
})
VEC_FN(sha1msg2)
VEC_BODY_N(16, {
    VD(&vr, 3) = crypto_rol(VD(&va, 3) ^ VD(&vb, 2), 1);
    VD(&vr, 2) = crypto_rol(VD(&va, 2) ^ VD(&vb, 1), 1);
    VD(&vr, 1) = crypto_rol(VD(&va, 1) ^ VD(&vb, 0), 1);
    VD(&vr, 0) = crypto_rol(VD(&va, 0) ^ VD(&vr, 3), 1);
})

/* ---- SHA-256 ---- */
static uint32_t crypto_sigma0(uint32_t x) { return crypto_ror(x, 7) ^ crypto_ror(x, 18) ^ x >> 3; }
static uint32_t crypto_sigma1(uint32_t x) { return crypto_ror(x, 17) ^ crypto_ror(x, 19) ^ x >> 10; }
VEC_FN(sha256rnds2)
{
    uint32_t s[8], t1, t2;
    unsigned i;
    (void)imm;
    s[0] = VD(b, 3), s[1] = VD(b, 2), s[2] = VD(a, 3), s[3] = VD(a, 2); /* A B C D */
    s[4] = VD(b, 1), s[5] = VD(b, 0), s[6] = VD(a, 1), s[7] = VD(a, 0); /* E F G H */
    for (i = 0; i < 2; i++) {
        t1 = s[7] + (crypto_ror(s[4], 6) ^ crypto_ror(s[4], 11) ^ crypto_ror(s[4], 25)) + crypto_ch(s[4], s[5], s[6]) + VD(&c->xmm[0], i);
        t2 = (crypto_ror(s[0], 2) ^ crypto_ror(s[0], 13) ^ crypto_ror(s[0], 22)) + crypto_maj(s[0], s[1], s[2]);
        s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t1;
        s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t1 + t2;
    }
    VD(d, 3) = s[0], VD(d, 2) = s[1], VD(d, 1) = s[4], VD(d, 0) = s[5];
    return CPU_OK;
}
VEC_FN(sha256msg1)
VEC_BODY_N(16, {
    VD(&vr, 3) = VD(&va, 3) + crypto_sigma0(VD(&vb, 0));
    VD(&vr, 2) = VD(&va, 2) + crypto_sigma0(VD(&va, 3));
    VD(&vr, 1) = VD(&va, 1) + crypto_sigma0(VD(&va, 2));
    VD(&vr, 0) = VD(&va, 0) + crypto_sigma0(VD(&va, 1));
})
VEC_FN(sha256msg2)
VEC_BODY_N(16, {
    VD(&vr, 0) = VD(&va, 0) + crypto_sigma1(VD(&vb, 2));
    VD(&vr, 1) = VD(&va, 1) + crypto_sigma1(VD(&vb, 3));
    VD(&vr, 2) = VD(&va, 2) + crypto_sigma1(VD(&vr, 0));
    VD(&vr, 3) = VD(&va, 3) + crypto_sigma1(VD(&vr, 1));
})

/* ---- the table ---- */
#define CRYPTO_AES(op, name, fn) ROW_VEC(ENC0F38(op) | PFX_66, name, OPND_Vx, OPND_Wx, 0, CPU_AES, ROW_SSE, 0, fn)
#define CRYPTO_SHA(op, name, fn) ROW_VEC(ENC0F38(op) | PFX_NP, name, OPND_Vx, OPND_Wx, 0, CPU_SHA, ROW_SSE, 0, fn)
static const struct insn_row crypto_rows[] = {
    CRYPTO_AES(0xDB, "aesimc", aesimc),
    CRYPTO_AES(0xDC, "aesenc", aesenc),
    CRYPTO_AES(0xDD, "aesenclast", aesenclast),
    CRYPTO_AES(0xDE, "aesdec", aesdec),
    CRYPTO_AES(0xDF, "aesdeclast", aesdeclast),
    ROW_VEC(ENC0F3A(0xDF) | PFX_66, "aeskeygenassist", OPND_Vx, OPND_Wx, OPND_Ib, CPU_AES, ROW_SSE, 0, aeskeygenassist),
    ROW_VEC(ENC0F3A(0x44) | PFX_66, "pclmulqdq", OPND_Vx, OPND_Wx, OPND_Ib, CPU_PCLMULQDQ, ROW_SSE, 0, pclmulqdq),
    CRYPTO_SHA(0xC8, "sha1nexte", sha1nexte),
    CRYPTO_SHA(0xC9, "sha1msg1", sha1msg1),
    CRYPTO_SHA(0xCA, "sha1msg2", sha1msg2),
    CRYPTO_SHA(0xCB, "sha256rnds2", sha256rnds2),
    CRYPTO_SHA(0xCC, "sha256msg1", sha256msg1),
    CRYPTO_SHA(0xCD, "sha256msg2", sha256msg2),
    ROW_VEC(ENC0F3A(0xCC) | PFX_NP, "sha1rnds4", OPND_Vx, OPND_Wx, OPND_Ib, CPU_SHA, ROW_SSE, 0, sha1rnds4),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL },
};
EMU_PRIV const struct insn_row *cpu_rows_crypto(void) { return crypto_rows; }
#undef CRYPTO_AES
#undef CRYPTO_SHA
