/* disk/image.h - image formats behind one interface, for disk/ only.
 *
 * Contract   block.c opens a chain of struct image and calls image_read() and friends; a format implements struct image_ops over
 *            img->file and, where it has one, img->backing. Requests may have any byte offset and size inside size_bytes.
 * Invariants 1. An op is called only with a range inside size_bytes, and write ops only when !read_only.
 *            2. Everything read from the file is hostile: a format answers EMU_EFORMAT or EMU_EIO, never trusts.
 */
#ifndef EMU_IMAGE_H
#define EMU_IMAGE_H

enum image_flag {
    IMAGE_WRITE = 1,
    IMAGE_NO_FLUSH = 2, /* cache=unsafe: the host's cache is good enough */
    IMAGE_NO_LOCK = 4,
    IMAGE_UNMAP = 8,    /* discard=unmap: freed space goes back to the host */
    IMAGE_NO_BACKING = 16 /* the image alone, for tools */
};
#define IMAGE_CHAIN_MAX 64 /* backing files below one another */

struct image;
struct image_ops {
    const char *name;
    bool (*probe)(const uint8_t *head, size_t size); /* the file's first bytes; NULL: never guessed */
    /* file, path and flags are set. Sets size_bytes, state, and backing_name/backing_format for the caller to open. */
    int (*open)(struct image *img, struct err *err);
    int (*close)(struct image *img); /* writes what it held back; frees state also when that failed */
    int (*read)(struct image *img, uint64_t offset, void *buf, size_t size);
    int (*write)(struct image *img, uint64_t offset, const void *buf, size_t size);
    int (*flush)(struct image *img);
    int (*discard)(struct image *img, uint64_t offset, uint64_t size);                 /* a hint; NULL: none */
    int (*write_zeroes)(struct image *img, uint64_t offset, uint64_t size, bool unmap); /* NULL: zeros are written */
    int (*resize)(struct image *img, uint64_t size, struct err *err);                   /* NULL: can't */
    void (*info)(struct image *img, struct buf *out);
};
struct image {
    struct emu *emu;
    const struct image_ops *ops;
    void *state;
    char *path;
    struct host_file *file;
    uint64_t size_bytes; /* multiple of 512; what a guest sees */
    unsigned flags;      /* enum image_flag */
    bool read_only;
    bool guessed_raw;    /* format not given: writes that would turn it into another format are refused */
    bool said_guessed, said_damage;
    char *backing_name, *backing_format; /* as the image has them, or NULL */
    struct image *backing;
};

/* format NULL: guessed from the content. The image, or NULL with *err set. */
EMU_PRIV int image_open(struct emu *e, struct image **out, const char *path, const char *format, unsigned flags, struct err *err);
EMU_PRIV int image_close(struct image *img); /* with its chain; NULL is fine */
EMU_PRIV int image_read(struct image *img, uint64_t offset, void *buf, size_t size);
EMU_PRIV int image_write(struct image *img, uint64_t offset, const void *buf, size_t size);
EMU_PRIV int image_flush(struct image *img);
EMU_PRIV int image_discard(struct image *img, uint64_t offset, uint64_t size);
EMU_PRIV int image_write_zeroes(struct image *img, uint64_t offset, uint64_t size, bool unmap);
EMU_PRIV int image_read_padded(struct image *img, uint64_t offset, void *buf, size_t size); /* past the end: zeros */
EMU_PRIV const char *image_probe(const uint8_t *head, size_t size); /* a format's name; "raw" when nothing else claims it */
EMU_PRIV int image_open_provided(struct emu *e, struct image **out, const char *name, unsigned flags, struct err *err); /* embed:NAME */
EMU_PRIV bool image_all_zero(const void *buf, size_t size);
/* -snapshot: what is written goes to a temporary file and is gone with it. Takes backing over, also on failure. */
EMU_PRIV int image_overlay_create(struct emu *e, struct image **out, struct image *backing, struct err *err);
EMU_PRIV int image_host_sync(struct image *img); /* host_file_flush, unless IMAGE_NO_FLUSH */

#ifdef EMU_AMALGAMATION
#define IMAGE_OPS_DECLARE(name) static EMU_UNUSED const struct image_ops name
#else
#define IMAGE_OPS_DECLARE(name) extern const struct image_ops name
#endif

/* disk/raw.c */
IMAGE_OPS_DECLARE(raw_ops);

/* disk/qcow2.c */
IMAGE_OPS_DECLARE(qcow2_ops);
struct qcow2_create_options {
    unsigned version;       /* 2 or 3; 0 = 3 */
    unsigned cluster_bits;  /* 9..21; 0 = 16 */
    unsigned refcount_order; /* 0..6; only version 3; 4 = 16 bits is the rule; see refcount_order_set */
    bool refcount_order_set;
    bool lazy_refcounts;
    const char *backing, *backing_format; /* NULL: none */
};
EMU_PRIV int qcow2_create(struct emu *e, const char *path, uint64_t size_bytes, const struct qcow2_create_options *o, struct err *err);
/* Walks all tables and compares them with the reference counts, as `qemu-img check`. */
struct qcow2_check_result {
    uint64_t leaks, errors, clusters;
};
EMU_PRIV int qcow2_check(struct image *img, struct qcow2_check_result *result, bool repair, struct err *err);

/* disk/inflate.c: RFC 1951. 0 at the stream's end; EMU_ERANGE: out is full and more would come; EMU_EFORMAT: damaged or cut off.
 * *produced and *consumed (may be NULL) count bytes in every case. */
EMU_PRIV int inflate_raw(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size, size_t *produced, size_t *consumed);

#undef IMAGE_OPS_DECLARE

#endif
