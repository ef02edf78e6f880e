/* front/png.c - the guest's screen as a picture file or as text.
 *
 * Models     PNG (ISO/IEC 15948), colour type 2, with deflate's stored blocks (RFC 1951 §3.2.4): no compression, any reader takes it. PPM "P6".
 * Contract   monitor.c and the API ask for the picture as it is now; nothing is cached.
 */
#include "../machine.h"
#include "front.h"

#define PNG_STORED_MAX 65535u /* bytes in one stored block */

static uint32_t png_crc(const uint8_t *p, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    unsigned k;
    while (size--) {
        crc ^= *p++;
        for (k = 0; k < 8; k++)
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static uint32_t png_adler(const uint8_t *p, size_t size)
{
    uint32_t a = 1, b = 0;
    while (size--) {
        a = (a + *p++) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void png_add_be32(struct buf *b, uint32_t v)
{
    uint8_t bytes[4];
    st32be(bytes, v);
    buf_add(b, bytes, 4);
}

static void png_chunk(struct buf *out, const char *type, const uint8_t *data, size_t size)
{
    size_t start;
    png_add_be32(out, (uint32_t)size);
    start = out->size;
    buf_add(out, type, 4);
    if (size)
        buf_add(out, data, size);
    if (!out->failed)
        png_add_be32(out, png_crc(out->data + start, size + 4));
}

/* Rows of RGB triples, each after `prefix` zero bytes (PNG's filter type 0). */
static void png_rows(struct buf *b, const struct screen *s, unsigned prefix)
{
    int x, y;
    for (y = 0; y < s->height; y++) {
        const uint32_t *row = s->pixels + (size_t)y * (size_t)s->stride_pixels;
        if (prefix)
            buf_add(b, "", 1);
        for (x = 0; x < s->width; x++) {
            uint8_t rgb[3];
            rgb[0] = (uint8_t)(row[x] >> 16);
            rgb[1] = (uint8_t)(row[x] >> 8);
            rgb[2] = (uint8_t)row[x];
            buf_add(b, rgb, 3);
        }
    }
}

static void png_encode(struct buf *out, const struct screen *s)
{
    static const uint8_t signature[8] = { 0x89, 'P', 'N', 'G', 13, 10, 26, 10 };
    uint8_t header[13] = { 0 };
    struct buf raw, zlib;
    size_t at = 0;
    buf_init(&raw, out->emu);
    buf_init(&zlib, out->emu);
    png_rows(&raw, s, 1);
    buf_add(&zlib, "\x78\x01", 2);
    while (!raw.failed && (at < raw.size || !at)) {
        size_t n = EMU_MIN(raw.size - at, PNG_STORED_MAX);
        uint8_t block[5];
        block[0] = at + n == raw.size;
        st16le(block + 1, (uint16_t)n);
        st16le(block + 3, (uint16_t)~n);
        buf_add(&zlib, block, 5);
        buf_add(&zlib, raw.data + at, n);
        at += n;
        if (!n)
            break;
    }
    png_add_be32(&zlib, raw.failed ? 1 : png_adler(raw.data, raw.size));
    st32be(header, (uint32_t)s->width);
    st32be(header + 4, (uint32_t)s->height);
    header[8] = 8; /* bits a sample */
    header[9] = 2; /* RGB */
    buf_add(out, signature, 8);
    png_chunk(out, "IHDR", header, sizeof header);
    png_chunk(out, "IDAT", zlib.data, zlib.size);
    png_chunk(out, "IEND", NULL, 0);
    out->failed |= raw.failed || zlib.failed;
    buf_free(&raw);
    buf_free(&zlib);
}

EMU_PRIV int screen_save(struct emu *e, const char *path, const char *format, struct err *err)
{
    struct screen s = { 0 };
    struct buf out;
    size_t n = strlen(path);
    bool png = format ? !strcmp(format, "png") : n > 4 && !strcmp(path + n - 4, ".png");
    int r = 0;
    if (!e->display)
        return err_set(err, EMU_ENOENT, "there is no display device to dump");
    if (format && strcmp(format, "png") && strcmp(format, "ppm"))
        return err_set(err, EMU_EINVAL, "%s: not a picture format; use ppm or png", format);
    e->display->update(e->display->opaque, &s);
    buf_init(&out, e);
    if (png) {
        png_encode(&out, &s);
    } else {
        buf_printf(&out, "P6\n%d %d\n255\n", s.width, s.height);
        png_rows(&out, &s, 0);
    }
    if (out.failed)
        r = err_set(err, EMU_ENOMEM, "out of memory");
    else
        r = host_file_save(path, out.data, out.size, err);
    buf_free(&out);
    return r;
}

EMU_PRIV int screen_text_print(struct emu *e, struct buf *out)
{
    struct screen_text *t = emu_alloc(e, sizeof *t);
    int row, column;
    if (!t)
        return EMU_ENOMEM;
    if (!e->display || !e->display->text(e->display->opaque, t)) {
        emu_free(e, t);
        return EMU_ENOENT;
    }
    for (row = 0; row < t->rows; row++) {
        int end = t->columns;
        while (end && ((t->cells[row * t->columns + end - 1] & 0xFF) == ' ' || !(t->cells[row * t->columns + end - 1] & 0xFF)))
            end--;
        for (column = 0; column < end; column++)
            front_put_cp437(out, t->cells[row * t->columns + column] & 0xFF);
        buf_printf(out, "\n");
    }
    emu_free(e, t);
    return 0;
}
#undef PNG_STORED_MAX
