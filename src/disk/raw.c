/* disk/raw.c - images without a format: byte n of the file is byte n of the disk. Files, block devices, CD images.
 *
 * Contract   An image_ops of block.c.
 * Theory     A file whose size is no multiple of 512 is shown padded with zeros; a write into the padding makes the file longer.
 *            An image whose format was guessed to be raw stays raw: a guest that could write another format's magic
 *            number into sector 0 would have the next start read any host file as its "backing file".
 * Invariants 1. A guessed image's first 512 bytes never become what image_probe() takes for another format.
 */
#include "../machine.h"
#include "image.h"

enum { RAW_SECTOR = 512 };

static int raw_open(struct image *img, struct err *err)
{
    int64_t size = host_file_size(img->file);
    if (size < 0)
        return err_set(err, (int)size, "%s: its size can't be read", img->path);
    if (size == 0)
        return err_set(err, EMU_EFORMAT, "%s: is empty (0 bytes); make a disk with: qemu-img create, or truncate -s 1G", img->path);
    img->size_bytes = ((uint64_t)size + RAW_SECTOR - 1) / RAW_SECTOR * RAW_SECTOR;
    return 0;
}

static int raw_close(struct image *img)
{
    (void)img;
    return 0;
}

static int raw_read(struct image *img, uint64_t offset, void *buf, size_t size) { return host_file_read(img->file, offset, buf, size); }

/* Would these bytes turn a guessed image into another format? */
static bool raw_changes_format(struct image *img, uint64_t offset, const void *buf, size_t size)
{
    uint8_t head[RAW_SECTOR];
    size_t n;
    if (!img->guessed_raw || offset >= RAW_SECTOR)
        return false;
    n = EMU_MIN(size, (size_t)(RAW_SECTOR - offset));
    if (host_file_read(img->file, 0, head, sizeof head))
        return false;
    memcpy(head + offset, buf, n);
    return strcmp(image_probe(head, sizeof head), "raw") != 0;
}

static int raw_write(struct image *img, uint64_t offset, const void *buf, size_t size)
{
    if (EMU_UNLIKELY(raw_changes_format(img, offset, buf, size))) {
        emu_log_once(img->emu, &img->said_guessed, LOG_NOTICE,
                     "%s: write to sector 0 refused: it would make the image look like another format; say format=raw to allow it", img->path);
        return EMU_EACCES;
    }
    return host_file_write(img->file, offset, buf, size);
}

static int raw_flush(struct image *img) { return image_host_sync(img); }

static int raw_discard(struct image *img, uint64_t offset, uint64_t size)
{
    int r = img->flags & IMAGE_UNMAP ? host_file_discard(img->file, offset, size) : 0;
    return r == EMU_ENOTSUP ? 0 : r;
}

static int raw_write_zeroes(struct image *img, uint64_t offset, uint64_t size, bool unmap)
{
    return unmap && (img->flags & IMAGE_UNMAP) ? host_file_discard(img->file, offset, size) : EMU_ENOTSUP;
}

static int raw_resize(struct image *img, uint64_t size, struct err *err)
{
    int r = host_file_resize(img->file, size);
    if (r)
        return err_set(err, r, "%s: can't be resized: %s", img->path, emu_strerror(r));
    img->size_bytes = (size + RAW_SECTOR - 1) / RAW_SECTOR * RAW_SECTOR;
    return 0;
}

EMU_PRIV const struct image_ops raw_ops = {
    "raw", NULL, raw_open, raw_close, raw_read, raw_write, raw_flush, raw_discard, raw_write_zeroes, raw_resize, NULL,
};
