/* picture.h - reads back what screendump wrote: PPM (P6, 255 levels), and PNG as front/png.c makes it: 8-bit RGB, one IDAT of stored deflate blocks
 * (RFC 1951 §3.2.4), filter 0, every chunk's length and place checked (PNG specification, 3rd edition, §5.3).
 */
#ifndef PICTURE_H
#define PICTURE_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct picture {
    int width, height;
    uint32_t *pixels; /* 0x00RRGGBB, rows without a gap; the caller frees them */
};

static uint32_t picture_be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

/* The whole file, a zero byte after it; NULL if there is none. */
static uint8_t *picture_load_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p;
    long n;
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    n = ftell(f);
    rewind(f);
    p = (uint8_t *)malloc((size_t)n + 1);
    *size = p ? fread(p, 1, (size_t)n, f) : 0;
    if (p)
        p[*size] = 0;
    fclose(f);
    return p;
}

static void picture_row(struct picture *p, int y, const uint8_t *rgb)
{
    int x;
    for (x = 0; x < p->width; x++)
        p->pixels[y * p->width + x] = (uint32_t)rgb[3 * x] << 16 | (uint32_t)rgb[3 * x + 1] << 8 | rgb[3 * x + 2];
}

static int picture_from_png(struct picture *p, const uint8_t *b, size_t size)
{
    size_t row = (size_t)(3 * p->width + 1), want = row * (size_t)p->height, at, n, z;
    uint8_t *rows;
    int y, good;
    if (size < 61 || memcmp(b + 12, "IHDR", 4) || b[24] != 8 || b[25] != 2 || memcmp(b + 37, "IDAT", 4) || picture_be32(b + 33) + 57 != size ||
        memcmp(b + size - 8, "IEND", 4) || !(rows = (uint8_t *)malloc(want)))
        return 0;
    for (z = 41 + 2, at = 0; at < want; at += n, z += 5 + n) {
        n = z + 5 <= size ? b[z + 1] | (size_t)b[z + 2] << 8 : 0;
        if (!n || (b[z] & 6) || at + n > want || z + 5 + n > size)
            break;
        memcpy(rows + at, b + z + 5, n);
    }
    good = at == want;
    for (y = 0; good && y < p->height; y++) {
        good = rows[(size_t)y * row] == 0;
        picture_row(p, y, rows + (size_t)y * row + 1);
    }
    free(rows);
    return good;
}

/* 1, or 0: not there, or not whole. */
static int picture_load(const char *path, struct picture *p)
{
    size_t size = 0;
    uint8_t *b = picture_load_file(path, &size);
    int png = b && size >= 24 && !memcmp(b, "\x89PNG\r\n\x1A\n", 8), offset = 0, y, good = 0;
    p->pixels = NULL;
    p->width = p->height = 0;
    if (png) {
        p->width = (int)picture_be32(b + 16);
        p->height = (int)picture_be32(b + 20);
    } else if (!b || sscanf((const char *)b, "P6\n%d %d\n255\n%n", &p->width, &p->height, &offset) != 2 || !offset) {
        p->width = 0;
    }
    if (p->width > 0 && p->height > 0 && p->width < 10000 && p->height < 10000)
        p->pixels = (uint32_t *)malloc((size_t)p->width * (size_t)p->height * sizeof *p->pixels);
    if (p->pixels && png) {
        good = picture_from_png(p, b, size);
    } else if (p->pixels && size == (size_t)offset + 3 * (size_t)p->width * (size_t)p->height) {
        for (y = 0; y < p->height; y++)
            picture_row(p, y, b + offset + 3 * y * p->width);
        good = 1;
    }
    free(b);
    return good;
}
#endif
