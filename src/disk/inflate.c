/* disk/inflate.c - decompression of DEFLATE streams.
 *
 * Models     RFC 1951.
 * Contract   inflate_raw() decodes a whole stream from memory to memory; qcow2 calls it for compressed clusters.
 * Theory     Huffman codes are canonical: per length the number of codes and, in order, their symbols say it all. Codes of up to
 *            INFLATE_FAST_BITS bits are found by one look into a table indexed with the next bits of the stream (which are the code's
 *            bits, first one lowest); longer ones by walking the lengths. The output buffer is the window.
 * Invariants 1. No byte outside [in, in+in_size) is read and none outside [out, out+out_size) written.
 *            2. At most 7 bits beyond those that a complete stream needs are looked at, as zeros.
 */
#include "../machine.h"
#include "image.h"

enum { INFLATE_FAST_BITS = 9, INFLATE_MAX_BITS = 15, INFLATE_LITERALS = 288, INFLATE_DISTANCES = 30, INFLATE_END = 256 };

struct inflate_code {
    uint16_t fast[1 << INFLATE_FAST_BITS]; /* symbol << 4 | length; 0: longer, or no such code */
    uint16_t count[INFLATE_MAX_BITS + 1];  /* codes of each length */
    uint16_t symbol[INFLATE_LITERALS];     /* in order of code */
};

struct inflate_stream {
    const uint8_t *in;
    size_t in_size, in_pos;
    uint8_t *out;
    size_t out_size, out_pos;
    uint64_t bits;
    unsigned bit_count;
    bool past_end; /* bits were asked for that do not exist */
    struct inflate_code literal, distance;
};

static void inflate_refill(struct inflate_stream *s)
{
    while (s->bit_count <= 56 && s->in_pos < s->in_size) {
        s->bits |= (uint64_t)s->in[s->in_pos++] << s->bit_count;
        s->bit_count += 8;
    }
}

/* The next n (<= 16) bits, first one lowest. */
static unsigned inflate_bits(struct inflate_stream *s, unsigned n)
{
    unsigned v;
    if (s->bit_count < n) {
        inflate_refill(s);
        if (s->bit_count < n) {
            s->past_end = true;
            s->bit_count = 0;
            return 0;
        }
    }
    v = (unsigned)(s->bits & ((1u << n) - 1));
    s->bits >>= n;
    s->bit_count -= n;
    return v;
}

/* From code lengths to tables. A code must be complete, but for the one-symbol and the empty code (RFC 1951 §3.2.7). */
static bool inflate_build(struct inflate_code *c, const uint8_t *lengths, unsigned n)
{
    uint16_t offset[INFLATE_MAX_BITS + 2], code = 0;
    unsigned i, length, used = 0;
    int left = 1;
    memset(c, 0, sizeof *c);
    for (i = 0; i < n; i++)
        c->count[lengths[i]]++;
    used = n - c->count[0];
    c->count[0] = 0;
    for (length = 1; length <= INFLATE_MAX_BITS; length++) {
        left = left * 2 - (int)c->count[length];
        if (left < 0)
            return false;
    }
    if (left > 0 && !(used == 0 || (used == 1 && c->count[1] == 1)))
        return false;
    offset[1] = 0;
    for (length = 1; length <= INFLATE_MAX_BITS; length++)
        offset[length + 1] = (uint16_t)(offset[length] + c->count[length]);
    for (i = 0; i < n; i++)
        if (lengths[i])
            c->symbol[offset[lengths[i]]++] = (uint16_t)i;
    for (length = 1, i = 0; length <= INFLATE_FAST_BITS; length++, code = (uint16_t)(code << 1)) {
        unsigned k;
        for (k = 0; k < c->count[length]; k++, code++, i++) {
            unsigned reversed = 0, b, index;
            for (b = 0; b < length; b++)
                reversed |= ((unsigned)code >> b & 1u) << (length - 1 - b);
            for (index = reversed; index < 1u << INFLATE_FAST_BITS; index += 1u << length)
                c->fast[index] = (uint16_t)(c->symbol[i] << 4 | length);
        }
    }
    return true;
}

/* The next symbol, or -1. */
static int inflate_symbol(struct inflate_stream *s, const struct inflate_code *c)
{
    unsigned entry, length, code = 0, first = 0, index = 0;
    uint64_t bits;
    if (s->bit_count < INFLATE_MAX_BITS)
        inflate_refill(s);
    entry = c->fast[s->bits & ((1u << INFLATE_FAST_BITS) - 1)];
    if (entry && (entry & 15) <= s->bit_count) {
        s->bits >>= entry & 15;
        s->bit_count -= entry & 15;
        return (int)(entry >> 4);
    }
    bits = s->bits;
    for (length = 1; length <= INFLATE_MAX_BITS && length <= s->bit_count; length++, bits >>= 1) {
        code |= (unsigned)(bits & 1);
        if (code - first < c->count[length]) {
            s->bits >>= length;
            s->bit_count -= length;
            return c->symbol[index + (code - first)];
        }
        index += c->count[length];
        first = (first + c->count[length]) << 1;
        code <<= 1;
    }
    s->past_end |= length > s->bit_count;
    return -1;
}

static int inflate_stored(struct inflate_stream *s)
{
    size_t n;
    unsigned length, check;
    inflate_bits(s, s->bit_count & 7);
    length = inflate_bits(s, 16);
    check = inflate_bits(s, 16);
    if (s->past_end || length != (check ^ 0xFFFFu))
        return EMU_EFORMAT;
    s->in_pos -= s->bit_count / 8; /* whole bytes that were fetched early */
    s->bits = 0;
    s->bit_count = 0;
    if (length > s->in_size - s->in_pos)
        return EMU_EFORMAT;
    n = EMU_MIN((size_t)length, s->out_size - s->out_pos);
    if (n)
        memcpy(s->out + s->out_pos, s->in + s->in_pos, n);
    s->out_pos += n;
    s->in_pos += n;
    return n < length ? EMU_ERANGE : 0;
}

static int inflate_fixed(struct inflate_stream *s)
{
    uint8_t lengths[INFLATE_LITERALS];
    unsigned i;
    for (i = 0; i < INFLATE_LITERALS; i++) /* RFC 1951 §3.2.6 */
        lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    inflate_build(&s->literal, lengths, INFLATE_LITERALS);
    memset(lengths, 5, 32); /* distances 30 and 31 have codes but no meaning */
    inflate_build(&s->distance, lengths, 32);
    return 0;
}

static int inflate_dynamic(struct inflate_stream *s)
{
    static const uint8_t order[19] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
    uint8_t lengths[INFLATE_LITERALS + 32];
    unsigned literals = inflate_bits(s, 5) + 257, distances = inflate_bits(s, 5) + 1, codes = inflate_bits(s, 4) + 4, i = 0;
    if (s->past_end || literals > 286 || distances > INFLATE_DISTANCES)
        return EMU_EFORMAT;
    memset(lengths, 0, sizeof lengths);
    for (i = 0; i < codes; i++)
        lengths[order[i]] = (uint8_t)inflate_bits(s, 3);
    if (s->past_end || !inflate_build(&s->literal, lengths, 19))
        return EMU_EFORMAT;
    for (i = 0; i < literals + distances;) {
        int symbol = inflate_symbol(s, &s->literal);
        unsigned repeat, value = 0;
        if (symbol < 0)
            return EMU_EFORMAT;
        if (symbol < 16) {
            lengths[i++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16) {
            if (!i)
                return EMU_EFORMAT;
            value = lengths[i - 1];
            repeat = 3 + inflate_bits(s, 2);
        } else {
            repeat = symbol == 17 ? 3 + inflate_bits(s, 3) : 11 + inflate_bits(s, 7);
        }
        if (s->past_end || repeat > literals + distances - i)
            return EMU_EFORMAT;
        while (repeat--)
            lengths[i++] = (uint8_t)value;
    }
    if (!lengths[INFLATE_END] || !inflate_build(&s->literal, lengths, literals))
        return EMU_EFORMAT;
    return inflate_build(&s->distance, lengths + literals, distances) ? 0 : EMU_EFORMAT;
}

static int inflate_codes(struct inflate_stream *s)
{
    /* RFC 1951 §3.2.5 */
    static const uint16_t length_base[29] = { 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258 };
    static const uint8_t length_extra[29] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0 };
    static const uint16_t distance_base[INFLATE_DISTANCES] = { 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577 };
    for (;;) {
        int symbol = inflate_symbol(s, &s->literal);
        size_t length, distance;
        if (symbol < 0)
            return EMU_EFORMAT;
        if (symbol == INFLATE_END)
            return 0;
        if (symbol < INFLATE_END) {
            if (s->out_pos == s->out_size)
                return EMU_ERANGE;
            s->out[s->out_pos++] = (uint8_t)symbol;
            continue;
        }
        symbol -= INFLATE_END + 1;
        if (symbol >= 29)
            return EMU_EFORMAT;
        length = length_base[symbol] + inflate_bits(s, length_extra[symbol]);
        symbol = inflate_symbol(s, &s->distance);
        if (symbol < 0 || symbol >= INFLATE_DISTANCES)
            return EMU_EFORMAT;
        distance = distance_base[symbol] + inflate_bits(s, symbol < 4 ? 0 : (unsigned)symbol / 2 - 1);
        if (s->past_end || distance > s->out_pos)
            return EMU_EFORMAT;
        for (; length && s->out_pos < s->out_size; length--, s->out_pos++)
            s->out[s->out_pos] = s->out[s->out_pos - distance];
        if (length)
            return EMU_ERANGE;
    }
}

EMU_PRIV int inflate_raw(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size, size_t *produced, size_t *consumed)
{
    struct inflate_stream s;
    int r = 0;
    unsigned last = 0;
    memset(&s, 0, sizeof s);
    s.in = in;
    s.in_size = in_size;
    s.out = out;
    s.out_size = out_size;
    while (!r && !last) {
        unsigned type;
        last = inflate_bits(&s, 1);
        type = inflate_bits(&s, 2);
        if (s.past_end) {
            r = EMU_EFORMAT;
        } else if (type == 0) {
            r = inflate_stored(&s);
        } else if (type == 3) {
            r = EMU_EFORMAT;
        } else {
            r = type == 1 ? inflate_fixed(&s) : inflate_dynamic(&s);
            if (!r)
                r = inflate_codes(&s);
        }
    }
    if (produced)
        *produced = s.out_pos;
    if (consumed)
        *consumed = s.in_pos - s.bit_count / 8;
    return r;
}
