/* disk_qcow2.c - fuzz: a qcow2 image that somebody else made, and what a guest does to it.
 *
 * Input: length of the commands (16 bits), the commands (first byte modulo 8 is the kind, then offset and size in sectors: 16 bits, 8 bits), then the file.
 *   0-2 write   3 read   4 discard   5 zeros   6 flush   7 close and open
 * An image in which qcow2_check() finds nothing must keep what was written, and have no error afterwards; one that can't be opened stays as it was.
 */
#include "machine.h"
#include "../../emu.h"
#include "disk/image.h"

enum { FUZZ_MODEL = 1 << 20, FUZZ_FILE = 1 << 16 };
static const char fuzz_path[] = "fuzz-image";

static void fuzz_log(void *opaque, const char *line)
{
    (void)opaque;
    (void)line;
}

static void fuzz_die(const char *what)
{
    printf("%s\n", what);
    abort();
}

/* Errors of the image, or -1 when it can't be read. */
static int fuzz_check(struct emu *e)
{
    struct qcow2_check_result result;
    struct image *img;
    struct err err;
    int r = image_open(e, &img, fuzz_path, "qcow2", IMAGE_NO_BACKING, &err);
    if (r)
        return -1;
    r = qcow2_check(img, &result, false, &err);
    if (!r && (img->size_bytes > FUZZ_MODEL || img->backing_name))
        r = -1;
    image_close(img);
    return r ? -1 : (int)EMU_MIN(result.errors + result.leaks, (uint64_t)1000000);
}

static bool fuzz_unchanged(const uint8_t *was, size_t size)
{
    static uint8_t now[FUZZ_FILE + 1];
    FILE *f = fopen(fuzz_path, "rb");
    size_t n = f ? fread(now, 1, sizeof now, f) : 0;
    if (f)
        fclose(f);
    return n == size && !memcmp(now, was, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t model[FUZZ_MODEL], buf[256 * 512];
    size_t commands, at = 2, n;
    const uint8_t *file;
    struct emu_hooks hooks = { 0 };
    struct image *img;
    struct emu *e;
    struct err err;
    FILE *f;
    bool clean, whole = true;
    if (size < 2)
        return 0;
    commands = EMU_MIN((size_t)ld16be(data), size - 2);
    file = data + 2 + commands;
    n = EMU_MIN(size - 2 - commands, (size_t)FUZZ_FILE);
    f = fopen(fuzz_path, "wb");
    hooks.log = fuzz_log;
    e = emu_new(&hooks);
    if (!f || !e || fwrite(file, 1, n, f) != n || fclose(f))
        fuzz_die("no image file");
    clean = fuzz_check(e) == 0;
    if (image_open(e, &img, fuzz_path, "qcow2", IMAGE_WRITE | IMAGE_NO_BACKING | IMAGE_NO_FLUSH, &err)) {
        bool dirty = n >= 96 && ld32be(file + 4) == 3 && ((file[79] & 1) || ld64be(file + 88)); /* repair and autoclear come first */
        if (!dirty && !fuzz_unchanged(file, n))
            fuzz_die("an image that can't be opened was written to");
        emu_destroy(e);
        return 0;
    }
    if (clean && image_read(img, 0, model, (size_t)img->size_bytes))
        clean = false;
    while (at + 4 <= 2 + commands) {
        const uint8_t *c = data + at;
        uint64_t sectors = img->size_bytes / 512, offset = sectors ? ld16be(c + 1) % sectors : 0, count = sectors ? EMU_MIN((uint64_t)c[3] + 1, sectors - offset) : 0;
        size_t bytes = (size_t)count * 512;
        int r = 0;
        at += 4;
        switch (c[0] & 7) {
        case 0:
        case 1:
        case 2:
            memset(buf, c[0] | 1, bytes);
            r = image_write(img, offset * 512, buf, bytes);
            break;
        case 3:
            r = image_read(img, offset * 512, buf, bytes);
            if (!r && clean && whole && memcmp(buf, model + offset * 512, bytes))
                fuzz_die("a sector reads as nobody wrote it");
            break;
        case 4:
            r = image_discard(img, offset * 512, bytes);
            if (!r && clean)
                r = image_read(img, offset * 512, buf, bytes); /* zeros or what was there: taken over below */
            break;
        case 5:
            memset(buf, 0, bytes);
            r = image_write_zeroes(img, offset * 512, bytes, c[0] & 8);
            break;
        case 6: r = image_flush(img); break;
        default:
            if (image_close(img))
                whole = false;
            if (image_open(e, &img, fuzz_path, "qcow2", IMAGE_WRITE | IMAGE_NO_BACKING | IMAGE_NO_FLUSH, &err)) {
                if (clean)
                    fuzz_die(err.text);
                emu_destroy(e);
                return 0;
            }
            break;
        }
        if (r)
            whole = false; /* what a failed request left behind is not known */
        else if (clean && whole && ((c[0] & 7) <= 2 || (c[0] & 7) == 4 || (c[0] & 7) == 5))
            memcpy(model + offset * 512, buf, bytes);
    }
    if (clean && whole) {
        static uint8_t all[FUZZ_MODEL];
        if (image_read(img, 0, all, (size_t)img->size_bytes) || memcmp(all, model, (size_t)img->size_bytes))
            fuzz_die("the disk is not what was written to it");
    }
    if (image_close(img))
        whole = false;
    if (clean && whole && fuzz_check(e) != 0)
        fuzz_die("errors or leaks in an image that had none");
    emu_destroy(e);
    return 0;
}
