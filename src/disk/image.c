/* disk/image.c - opens images and their chains of backing files, whatever their format.
 *
 * Contract   block.c, the image tool and the formats call image_*(); the rows of image_formats[] implement them.
 * Theory     A path is opened, locked, and given to the format that was named or that its first bytes show; the format may name a backing
 *            file, which is opened read-only below it, relative to the image's own folder. A chain is walked from the top; a file
 *            that already stands above itself, or more than IMAGE_CHAIN_MAX files, is an error.
 * Invariants 1. Only the top of a chain is ever written.
 *            2. A request that reaches a format lies inside its size_bytes.
 */
#include "../machine.h"
#include "image.h"

enum { IMAGE_HEAD_BYTES = 2048 };

static const struct image_ops *const image_formats[] = { &raw_ops, &qcow2_ops };

/* Formats known by sight only: better a clear word than a disk full of nonsense. */
static const char *image_probe_foreign(const uint8_t *head, size_t size)
{
    if (size >= 8 && !memcmp(head, "QFI\xFB", 4) && ld32be(head + 4) == 1)
        return "qcow";
    if (size >= 4 && (!memcmp(head, "KDMV", 4) || !memcmp(head, "COWD", 4)))
        return "vmdk";
    if (size >= 21 && !memcmp(head, "# Disk DescriptorFile", 21))
        return "vmdk";
    if (size >= 68 && ld32le(head + 64) == 0xBEDA107Fu)
        return "vdi";
    if (size >= 8 && !memcmp(head, "conectix", 8))
        return "vpc";
    if (size >= 8 && !memcmp(head, "vhdxfile", 8))
        return "vhdx";
    if (size >= 4 && !memcmp(head, "QED\0", 4))
        return "qed";
    if (size >= 6 && !memcmp(head, "LUKS\xBA\xBE", 6))
        return "luks";
    return NULL;
}

EMU_PRIV const char *image_probe(const uint8_t *head, size_t size)
{
    size_t i;
    const char *foreign = image_probe_foreign(head, size);
    for (i = 0; i < EMU_ARRAY_LEN(image_formats); i++)
        if (image_formats[i]->probe && image_formats[i]->probe(head, size))
            return image_formats[i]->name;
    return foreign ? foreign : "raw";
}

static const struct image_ops *image_find_format(const char *name)
{
    size_t i;
    if (!strcmp(name, "file") || !strcmp(name, "host_device") || !strcmp(name, "host_cdrom"))
        name = "raw";
    for (i = 0; i < EMU_ARRAY_LEN(image_formats); i++)
        if (!strcmp(image_formats[i]->name, name))
            return image_formats[i];
    return NULL;
}

static int image_unknown_format(const char *path, const char *format, struct err *err)
{
    static const char *const later[] = { "vmdk", "vdi", "vpc", "vhd", "vhdx", "qcow", "qed", "luks", "dmg", "cloop", "parallels", "bochs" };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(later); i++)
        if (!strcmp(later[i], format))
            return err_set(err, EMU_ENOTSUP, "%s: format %s is not supported yet; convert it: qemu-img convert -O qcow2 %s disk.qcow2", path, format, path);
    return err_set(err, EMU_EINVAL, "%s: unknown format \"%s\"; there are raw and qcow2", path, format);
}

/* "name:" before any slash: an address, not a file. */
static bool image_has_protocol(const char *path)
{
    const char *p = path;
    while (*p && *p != ':' && *p != '/' && *p != '\\')
        p++;
    return *p == ':' && p > path + 1; /* one letter: a drive of Windows */
}

static int image_refuse_protocol(const char *path, struct err *err)
{
    if (!strncmp(path, "fat:", 4))
        return err_set(err, EMU_ENOTSUP, "%s: a folder shown as a FAT disk is not supported yet", path);
    if (!strncmp(path, "json:", 5))
        return err_set(err, EMU_ENOTSUP, "%s: json: descriptions are not supported; give file= and format=", path);
    return err_set(err, EMU_ENOTSUP, "%s: no such file, and images behind \"%.*s:\" are not supported", path, (int)strcspn(path, ":"), path);
}

/* The file a name in an image's header means: relative names start at the image's own folder. */
static char *image_resolve(struct emu *e, const char *from, const char *name)
{
    const char *slash = strrchr(from, '/');
    size_t n;
    char *p;
#ifdef _WIN32
    const char *other = strrchr(from, '\\');
    if (!slash || (other && other > slash))
        slash = other;
    if (name[0] && name[1] == ':')
        return emu_strdup(e, name);
#endif
    if (!strncmp(name, "file:", 5))
        name += 5;
    if (name[0] == '/' || name[0] == '\\' || !slash)
        return emu_strdup(e, name);
    n = (size_t)(slash - from) + 1;
    p = emu_alloc(e, n + strlen(name) + 1);
    if (p) {
        memcpy(p, from, n);
        strcpy(p + n, name);
    }
    return p;
}

struct image_above { /* the images above the one that is being opened */
    struct image *img;
    const struct image_above *next;
};

static int image_open_file(struct image *img, const struct image_above *above, struct err *err)
{
    const struct image_above *a;
    unsigned depth = 0;
    int r = host_file_open(&img->file, img->path, img->flags & IMAGE_WRITE ? HOST_OPEN_WRITE : 0, err);
    if ((r == EMU_EACCES || r == EMU_EROFS) && (img->flags & IMAGE_WRITE)) {
        struct host_file *probe;
        if (!host_file_open(&probe, img->path, 0, NULL)) {
            host_file_close(probe);
            return err_set(err, r, "%s: no permission to write it; use readonly=on, or -snapshot to throw changes away", img->path);
        }
    }
    if (r)
        return r;
    for (a = above; a; a = a->next, depth++)
        if (host_file_same(a->img->file, img->file))
            return err_set(err, EMU_EFORMAT, "%s: the chain of backing files loops: it stands above itself", img->path);
    if (depth >= IMAGE_CHAIN_MAX)
        return err_set(err, EMU_EFORMAT, "%s: more than %d backing files below one another; does the chain loop?", img->path, IMAGE_CHAIN_MAX);
    if (!(img->flags & IMAGE_NO_LOCK)) {
        r = host_file_lock(img->file, (img->flags & IMAGE_WRITE) != 0);
        if (r == EMU_EBUSY)
            return err_set(err, r, "%s: is in use by another emulator%s", img->path,
                           img->flags & IMAGE_WRITE ? "; stop that one, or use -snapshot once it only reads" : ", which writes it; stop that one first");
    }
    return 0;
}

static int image_pick_format(struct image *img, const char *format, struct err *err)
{
    uint8_t head[IMAGE_HEAD_BYTES];
    int r;
    if (!format) {
        r = host_file_read(img->file, 0, head, sizeof head);
        if (r)
            return err_set(err, r, "%s: can't be read: %s", img->path, emu_strerror(r));
        format = image_probe(head, sizeof head);
        img->guessed_raw = !strcmp(format, "raw") && (img->flags & IMAGE_WRITE);
    }
    img->ops = image_find_format(format);
    return img->ops ? 0 : image_unknown_format(img->path, format, err);
}

static int image_open_chain(struct emu *e, struct image **out, const char *path, const char *format, unsigned flags, const struct image_above *above, struct err *err);

static int image_open_backing(struct image *img, const struct image_above *above, struct err *err)
{
    struct image_above here;
    char *path;
    int r;
    if (!img->backing_name || (img->flags & IMAGE_NO_BACKING))
        return 0;
    path = image_resolve(img->emu, img->path, img->backing_name);
    if (!path)
        return err_set(err, EMU_ENOMEM, "%s: out of memory", img->path);
    here.img = img;
    here.next = above;
    if (host_path_kind(path) == HOST_KIND_NONE && !image_has_protocol(img->backing_name))
        r = err_set(err, EMU_ENOENT, "%s: backing file \"%s\" does not exist%s; qemu-img rebase -u -b FILE -F FORMAT names another", img->path, img->backing_name,
                    img->backing_name[0] == '/' ? "" : " beside it");
    else
        r = image_open_chain(img->emu, &img->backing, path, img->backing_format, img->flags & (IMAGE_NO_FLUSH | IMAGE_NO_LOCK), &here, err);
    emu_free(img->emu, path);
    return r;
}

static int image_open_chain(struct emu *e, struct image **out, const char *path, const char *format, unsigned flags, const struct image_above *above, struct err *err)
{
    struct image *img;
    int r;
    *out = NULL;
    if (!strncmp(path, "file:", 5))
        path += 5;
    if (image_has_protocol(path) && host_path_kind(path) == HOST_KIND_NONE)
        return image_refuse_protocol(path, err);
    img = emu_alloc(e, sizeof *img);
    if (!img || !(img->path = emu_strdup(e, path))) {
        emu_free(e, img);
        return err_set(err, EMU_ENOMEM, "%s: out of memory", path);
    }
    img->emu = e;
    img->flags = flags;
    img->read_only = !(flags & IMAGE_WRITE);
    r = image_open_file(img, above, err);
    if (!r)
        r = image_pick_format(img, format, err);
    if (!r) {
        r = img->ops->open(img, err);
        if (r)
            img->ops = NULL; /* open() cleaned up after itself */
    }
    if (!r)
        r = image_open_backing(img, above, err);
    if (r) {
        image_close(img);
        return r;
    }
    *out = img;
    return 0;
}

EMU_PRIV int image_open(struct emu *e, struct image **out, const char *path, const char *format, unsigned flags, struct err *err)
{
    return image_open_chain(e, out, path, format, flags, NULL, err);
}

EMU_PRIV int image_close(struct image *img)
{
    int r = 0;
    while (img) {
        struct image *below = img->backing;
        int closed = img->ops ? img->ops->close(img) : 0;
        r = r ? r : closed;
        host_file_close(img->file);
        emu_free(img->emu, img->path);
        emu_free(img->emu, img->backing_name);
        emu_free(img->emu, img->backing_format);
        emu_free(img->emu, img);
        img = below;
    }
    return r;
}

static bool image_range_ok(const struct image *img, uint64_t offset, uint64_t size) { return offset <= img->size_bytes && size <= img->size_bytes - offset; }

EMU_PRIV int image_read(struct image *img, uint64_t offset, void *buf, size_t size)
{
    if (!image_range_ok(img, offset, size))
        return EMU_ERANGE;
    return size ? img->ops->read(img, offset, buf, size) : 0;
}

EMU_PRIV int image_read_padded(struct image *img, uint64_t offset, void *buf, size_t size)
{
    size_t n = offset >= img->size_bytes ? 0 : (size_t)EMU_MIN((uint64_t)size, img->size_bytes - offset);
    memset((uint8_t *)buf + n, 0, size - n);
    return n ? img->ops->read(img, offset, buf, n) : 0;
}

EMU_PRIV int image_write(struct image *img, uint64_t offset, const void *buf, size_t size)
{
    if (img->read_only)
        return EMU_EROFS;
    if (!image_range_ok(img, offset, size))
        return EMU_ERANGE;
    return size ? img->ops->write(img, offset, buf, size) : 0;
}

EMU_PRIV int image_flush(struct image *img) { return img->read_only ? 0 : img->ops->flush(img); }

EMU_PRIV int image_discard(struct image *img, uint64_t offset, uint64_t size)
{
    if (img->read_only)
        return EMU_EROFS;
    if (!image_range_ok(img, offset, size))
        return EMU_ERANGE;
    return size && img->ops->discard ? img->ops->discard(img, offset, size) : 0;
}

EMU_PRIV int image_write_zeroes(struct image *img, uint64_t offset, uint64_t size, bool unmap)
{
    static const uint8_t zeros[16384];
    int r = EMU_ENOTSUP;
    if (img->read_only)
        return EMU_EROFS;
    if (!image_range_ok(img, offset, size))
        return EMU_ERANGE;
    if (size && img->ops->write_zeroes)
        r = img->ops->write_zeroes(img, offset, size, unmap);
    if (r != EMU_ENOTSUP)
        return r;
    for (r = 0; size && !r;) {
        size_t n = (size_t)EMU_MIN(size, (uint64_t)sizeof zeros);
        r = img->ops->write(img, offset, zeros, n);
        offset += n;
        size -= n;
    }
    return r;
}

EMU_PRIV bool image_all_zero(const void *buf, size_t size)
{
    const uint8_t *p = buf;
    return !size || (!p[0] && !memcmp(p, p + 1, size - 1));
}

EMU_PRIV int image_host_sync(struct image *img) { return img->flags & IMAGE_NO_FLUSH ? 0 : host_file_flush(img->file); }

/* ---- disks of an embedding program ---- */

struct image_provided {
    struct emu_disk_ops ops;
    void *opaque;
};

static int image_provided_read(struct image *img, uint64_t offset, void *buf, size_t size)
{
    struct image_provided *p = img->state;
    return p->ops.read(p->opaque, offset, buf, size);
}
static int image_provided_write(struct image *img, uint64_t offset, const void *buf, size_t size)
{
    struct image_provided *p = img->state;
    return p->ops.write(p->opaque, offset, buf, size);
}
static int image_provided_flush(struct image *img)
{
    struct image_provided *p = img->state;
    return p->ops.flush && !(img->flags & IMAGE_NO_FLUSH) ? p->ops.flush(p->opaque) : 0;
}
static int image_provided_close(struct image *img)
{
    emu_free(img->emu, img->state);
    return 0;
}
static const struct image_ops image_provided_ops = {
    "embed", NULL, NULL, image_provided_close, image_provided_read, image_provided_write, image_provided_flush, NULL, NULL, NULL, NULL,
};

EMU_PRIV int image_open_provided(struct emu *e, struct image **out, const char *name, unsigned flags, struct err *err)
{
    struct image_provided found, *state;
    struct image *img;
    *out = NULL;
    memset(&found, 0, sizeof found);
    if (!e->find_disk || !e->find_disk(e, name, &found.ops, &found.opaque))
        return err_set(err, EMU_ENOENT, "embed:%s: the program provides no disk of that name", name);
    if (found.ops.read_only && (flags & IMAGE_WRITE))
        return err_set(err, EMU_EROFS, "embed:%s: is read-only; use readonly=on or snapshot=on", name);
    img = emu_alloc(e, sizeof *img);
    state = emu_alloc(e, sizeof *state);
    if (!img || !state || !(img->path = emu_alloc(e, strlen(name) + 7))) {
        emu_free(e, img);
        emu_free(e, state);
        return err_set(err, EMU_ENOMEM, "embed:%s: out of memory", name);
    }
    sprintf(img->path, "embed:%s", name);
    *state = found;
    img->emu = e;
    img->ops = &image_provided_ops;
    img->state = state;
    img->flags = flags;
    img->read_only = !(flags & IMAGE_WRITE);
    img->size_bytes = found.ops.bytes / 512 * 512;
    *out = img;
    return 0;
}
