/* disk_qcow2 - qcow2 images against a plain model in memory, and against qemu-img where it is installed.
 *
 * A random sequence of writes, zero writes, discards, flushes and reopenings is applied to an image and to an array of bytes. Then
 * our reading, qemu-img's reading and the array must agree, and `qemu-img check` must find neither error nor leak.
 */
#include "../src/machine.h"
#include "../src/disk/image.h"
#include "test.h"

static struct emu machine;
static char notices[4096];
static char dir[256];

static void keep_notice(void *opaque, unsigned mask, const char *text)
{
    (void)opaque, (void)mask;
    snprintf(notices, sizeof notices, "%s", text);
}

static uint64_t rng_state;
static uint32_t rng(void)
{
    rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(rng_state >> 32);
}
static uint64_t rng_below(uint64_t n) { return (((uint64_t)rng() << 32) | rng()) % n; }

static void setup(void);
static const char *path_of(const char *name)
{
    static char paths[4][400];
    static int turn;
    char *p = paths[turn++ & 3];
    if (!*dir) /* one test alone */
        setup();
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static int sh(const char *fmt, ...)
{
    char cmd[2000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    fflush(stdout);
    return system(cmd);
}

static bool have_qemu_img(void)
{
    static int known;
    if (!known)
        known = system("qemu-img --version >/dev/null 2>&1") == 0 ? 1 : 2;
    return known == 1;
}

static struct image *open_image(const char *name, const char *format, unsigned flags)
{
    struct image *img = NULL;
    struct err err;
    err.text[0] = 0;
    if (image_open(&machine, &img, path_of(name), format, flags, &err)) {
        printf("open %s: %s\n", name, err.text);
        return NULL;
    }
    return img;
}

/* ---- the model ---- */

static uint8_t *model, *scratch;
static uint64_t model_size;

static void model_make(uint64_t size)
{
    free(model);
    free(scratch);
    model = calloc(1, (size_t)size);
    scratch = calloc(1, (size_t)size);
    model_size = size;
}

static bool same_as_model(struct image *img, uint64_t offset, uint64_t size)
{
    uint64_t i;
    if (image_read(img, offset, scratch, (size_t)size))
        return false;
    if (!memcmp(scratch, model + offset, (size_t)size))
        return true;
    for (i = 0; scratch[i] == model[offset + i]; i++) {
    }
    printf("differs at 0x%" PRIx64 ": %02x instead of %02x\n", offset + i, scratch[i], model[offset + i]);
    return false;
}

static void random_range(uint64_t *offset, uint64_t *size, bool large)
{
    uint64_t max = large ? 2 << 20 : rng() % 4 ? 16384 : 300000;
    max = EMU_MIN(max, model_size / 2);
    *size = (1 + rng_below(max / 512)) * 512;
    *offset = rng_below((model_size - *size) / 512 + 1) * 512;
    if (!(rng() % 8))
        *offset = 0;
    if (!(rng() % 8))
        *offset = model_size - *size;
}

/* One step on image and model; the image may be reopened. */
static bool random_step(struct image **img, const char *name, unsigned flags)
{
    uint64_t offset, size, i;
    unsigned what = rng() % 100;
    random_range(&offset, &size, what >= 55 && what < 75);
    if (what < 55) {
        uint8_t fill = (uint8_t)rng();
        for (i = 0; i < size; i++)
            scratch[i] = (uint8_t)(rng() % 3 ? fill : i * 7 + fill);
        if (image_write(*img, offset, scratch, (size_t)size))
            return false;
        memcpy(model + offset, scratch, (size_t)size);
    } else if (what < 65) {
        if (image_write_zeroes(*img, offset, size, rng() & 1))
            return false;
        memset(model + offset, 0, (size_t)size);
    } else if (what < 75) { /* each byte stays or becomes zero */
        if (image_discard(*img, offset, size) || image_read(*img, offset, scratch, (size_t)size))
            return false;
        for (i = 0; i < size; i++)
            if (scratch[i] && scratch[i] != model[offset + i])
                return false;
        memcpy(model + offset, scratch, (size_t)size);
    } else if (what < 95) {
        return same_as_model(*img, offset, size);
    } else if (what < 98) {
        return image_flush(*img) == 0;
    } else {
        if (image_close(*img))
            return false;
        *img = open_image(name, "qcow2", flags);
        return *img != NULL;
    }
    return true;
}

static bool random_steps(const char *name, unsigned flags, unsigned steps)
{
    struct image *img = open_image(name, "qcow2", flags);
    bool ok = img && img->size_bytes == model_size && same_as_model(img, 0, model_size);
    while (ok && steps--)
        ok = random_step(&img, name, flags);
    if (ok)
        ok = same_as_model(img, 0, model_size);
    if (!ok)
        printf("  (last notice: %s)\n", notices);
    if (img && image_close(img))
        ok = false;
    return ok;
}

/* 0: clean; qemu-img check's status else. */
static int checked(const char *name)
{
    if (!have_qemu_img())
        return 0;
    return sh("qemu-img check -q -f qcow2 %s >%s 2>&1 || { cat %s; exit 1; }", path_of(name), path_of("check.log"), path_of("check.log"));
}

static bool qemu_reads_model(const char *name, const char *extra)
{
    uint8_t *data;
    size_t size;
    bool ok;
    if (!have_qemu_img())
        return true;
    if (sh("qemu-img convert -f qcow2 -O raw %s %s %s", extra, path_of(name), path_of("out.raw")) || host_file_load(path_of("out.raw"), &data, &size, SIZE_MAX / 2, NULL))
        return false;
    ok = size == model_size && !memcmp(data, model, size);
    free(data);
    return ok;
}

/* ---- tests ---- */

static bool run_own_image(unsigned version, unsigned cluster_bits, unsigned order, bool lazy, uint64_t size, unsigned steps, unsigned flags)
{
    struct qcow2_create_options o = { 0 };
    struct err err;
    o.version = version;
    o.cluster_bits = cluster_bits;
    o.refcount_order = order;
    o.refcount_order_set = true;
    o.lazy_refcounts = lazy;
    model_make(size);
    if (qcow2_create(&machine, path_of("own.qcow2"), size, &o, &err)) {
        printf("%s\n", err.text);
        return false;
    }
    if (checked("own.qcow2")) {
        printf("empty image is not clean\n");
        return false;
    }
    return random_steps("own.qcow2", flags, steps) && !checked("own.qcow2") && qemu_reads_model("own.qcow2", "");
}

TEST(qcow2_every_cluster_size)
{
    unsigned bits;
    for (bits = 9; bits <= 21; bits++) {
        rng_state = bits;
        if (!run_own_image(3, bits, 4, false, bits < 12 ? 12 * MIB + 512 : 40 * MIB + 1536, 300, IMAGE_WRITE))
            printf("cluster bits %u\n", bits), *test_failed = 1;
    }
}

TEST(qcow2_every_refcount_width)
{
    unsigned order;
    for (order = 0; order <= 6; order++) {
        rng_state = 100 + order;
        if (!run_own_image(3, order & 1 ? 9 : 12, order, false, 10 * MIB, 300, IMAGE_WRITE | IMAGE_UNMAP))
            printf("refcount order %u\n", order), *test_failed = 1;
    }
}

TEST(qcow2_version_2_and_lazy_refcounts)
{
    rng_state = 200;
    CHECK(run_own_image(2, 16, 4, false, 33 * MIB, 400, IMAGE_WRITE));
    CHECK(run_own_image(2, 9, 4, false, 9 * MIB, 400, IMAGE_WRITE | IMAGE_UNMAP));
    CHECK(run_own_image(3, 16, 4, true, 33 * MIB, 400, IMAGE_WRITE | IMAGE_UNMAP));
}

TEST(qcow2_refcount_table_grows)
{
    /* 512-byte clusters and 64-bit counts: the first table covers 64 blocks of 64 clusters, 2 MiB */
    struct image *img;
    struct qcow2_check_result result;
    uint64_t at;
    rng_state = 300;
    CHECK(run_own_image(3, 9, 6, false, 24 * MIB, 10, IMAGE_WRITE));
    img = open_image("own.qcow2", "qcow2", IMAGE_WRITE);
    CHECK(img);
    for (at = 0; at < model_size; at += 4096) {
        memset(model + at, (int)(at >> 12) | 1, 4096);
        CHECK(!image_write(img, at, model + at, 4096));
    }
    CHECK(same_as_model(img, 0, model_size));
    CHECK(!qcow2_check(img, &result, false, NULL));
    CHECK_EQ(result.errors, 0);
    CHECK_EQ(result.leaks, 0);
    CHECK(!image_close(img));
    CHECK(!checked("own.qcow2"));
    CHECK(qemu_reads_model("own.qcow2", ""));
}

TEST(qcow2_of_qemu_img_with_backing)
{
    static const struct {
        const char *base, *options;
        unsigned version;
    } rows[] = { { "raw", "", 3 }, { "qcow2", "", 3 }, { "raw", "-o compat=0.10", 2 }, { "qcow2", "-o cluster_size=4096,lazy_refcounts=on", 3 }, { "raw", "-o cluster_size=512,refcount_bits=1", 3 } };
    size_t i, k;
    if (!have_qemu_img()) {
        printf("skip qcow2_of_qemu_img_with_backing: no qemu-img\n");
        return;
    }
    for (i = 0; i < EMU_ARRAY_LEN(rows); i++) {
        rng_state = 400 + i;
        model_make(20 * MIB + 512);
        for (k = 0; k < 14 * MIB; k++) /* the base ends before the overlay */
            model[k] = (uint8_t)(k >> 16 & 1 ? k * 13 >> 8 : 0);
        CHECK(!host_file_save(path_of("base.raw"), model, 14 * MIB, NULL));
        CHECK(!sh("qemu-img convert -f raw -O %s %s %s", rows[i].base, path_of("base.raw"), path_of("base.img")));
        CHECK(!sh("cd %s && rm -f top.qcow2 && qemu-img create -q -f qcow2 -F %s -b base.img %s top.qcow2 %" PRIu64, dir, rows[i].base, rows[i].options, model_size));
        if (!random_steps("top.qcow2", IMAGE_WRITE, 250) || checked("top.qcow2") || !qemu_reads_model("top.qcow2", ""))
            printf("row %u\n", (unsigned)i), *test_failed = 1;
    }
}

TEST(qcow2_compressed_by_qemu_img)
{
    size_t k;
    if (!have_qemu_img()) {
        printf("skip qcow2_compressed_by_qemu_img: no qemu-img\n");
        return;
    }
    for (k = 0; k < 3; k++) {
        static const char *const sizes[] = { "4096", "65536", "2097152" };
        uint64_t i;
        rng_state = 500 + k;
        model_make(12 * MIB);
        for (i = 0; i < model_size; i++)
            model[i] = (uint8_t)(i & 0x40000 ? rng() % 5 : i >> 8);
        for (i = 3 * MIB; i < 4 * MIB; i++)
            model[i] = (uint8_t)rng(); /* stays uncompressed */
        CHECK(!host_file_save(path_of("in.raw"), model, (size_t)model_size, NULL));
        CHECK(!sh("qemu-img convert -c -f raw -O qcow2 -o cluster_size=%s %s %s", sizes[k], path_of("in.raw"), path_of("c.qcow2")));
        CHECK(random_steps("c.qcow2", 0, 0));
        CHECK(random_steps("c.qcow2", IMAGE_WRITE | IMAGE_UNMAP, 250));
        CHECK(!checked("c.qcow2"));
        CHECK(qemu_reads_model("c.qcow2", ""));
    }
}

TEST(qcow2_keeps_internal_snapshots)
{
    uint8_t *then;
    unsigned round;
    if (!have_qemu_img()) {
        printf("skip qcow2_keeps_internal_snapshots: no qemu-img\n");
        return;
    }
    rng_state = 600;
    CHECK(run_own_image(3, 12, 4, false, 12 * MIB, 200, IMAGE_WRITE));
    then = malloc((size_t)model_size);
    memcpy(then, model, (size_t)model_size);
    CHECK(!sh("qemu-img snapshot -c first %s", path_of("own.qcow2")));
    for (round = 0; round < 3; round++) {
        CHECK(random_steps("own.qcow2", IMAGE_WRITE, 200));
        CHECK(!checked("own.qcow2"));
        CHECK(qemu_reads_model("own.qcow2", ""));
        CHECK(!sh("qemu-img snapshot -c s%u %s", round, path_of("own.qcow2")));
    }
    memcpy(model, then, (size_t)model_size);
    free(then);
    CHECK(qemu_reads_model("own.qcow2", "-l first"));
    CHECK(!sh("qemu-img snapshot -d s1 %s", path_of("own.qcow2")));
    CHECK(!sh("qemu-img snapshot -a first %s", path_of("own.qcow2")));
    CHECK(random_steps("own.qcow2", IMAGE_WRITE | IMAGE_UNMAP, 200));
    CHECK(!checked("own.qcow2"));
}

TEST(qcow2_grows_by_resize)
{
    struct image *img;
    struct err err;
    rng_state = 700;
    CHECK(run_own_image(3, 9, 4, false, 2 * MIB, 100, IMAGE_WRITE));
    img = open_image("own.qcow2", "qcow2", IMAGE_WRITE);
    CHECK(img);
    CHECK(!img->ops->resize(img, 64 * MIB, &err));
    CHECK_EQ(img->size_bytes, 64 * MIB);
    CHECK(!image_close(img));
    model = realloc(model, 64 * MIB);
    scratch = realloc(scratch, 64 * MIB);
    memset(model + model_size, 0, (size_t)(64 * MIB - model_size));
    model_size = 64 * MIB;
    CHECK(random_steps("own.qcow2", IMAGE_WRITE, 100));
    CHECK(!checked("own.qcow2"));
    CHECK(qemu_reads_model("own.qcow2", ""));
}

TEST(qcow2_large_virtual_disk)
{
    struct image *img;
    struct qcow2_create_options o = { 0 };
    uint8_t a[512], b[512];
    uint64_t size = UINT64_C(16) << 40;
    CHECK(!qcow2_create(&machine, path_of("large.qcow2"), size, &o, NULL));
    img = open_image("large.qcow2", "qcow2", IMAGE_WRITE);
    CHECK(img);
    memset(a, 0x5A, sizeof a);
    CHECK(!image_write(img, size - 512, a, 512));
    CHECK(!image_write(img, UINT64_C(5) << 40, a, 512));
    CHECK(!image_close(img));
    img = open_image("large.qcow2", NULL, 0);
    CHECK(img);
    CHECK(!image_read(img, size - 512, b, 512) && !memcmp(a, b, 512));
    CHECK(!image_read(img, UINT64_C(5) << 40, b, 512) && !memcmp(a, b, 512));
    CHECK(!image_read(img, UINT64_C(4) << 40, b, 512) && image_all_zero(b, 512));
    CHECK_EQ(image_read(img, size, b, 512), EMU_ERANGE);
    CHECK(!image_close(img));
    CHECK(!checked("large.qcow2"));
}

TEST(qcow2_repairs_dirty_image)
{
    struct image *img;
    struct qcow2_check_result result;
    uint8_t bits[8], block[16];
    struct host_file *f;
    rng_state = 800;
    CHECK(run_own_image(3, 12, 4, true, 8 * MIB, 200, IMAGE_WRITE));
    /* As after a crash with lazy reference counts: the dirty bit is set and some counts are too low. */
    CHECK(!host_file_open(&f, path_of("own.qcow2"), HOST_OPEN_WRITE, NULL));
    CHECK(!host_file_read(f, 72, bits, 8));
    bits[7] |= 1;
    CHECK(!host_file_write(f, 72, bits, 8));
    CHECK(!host_file_read(f, 2 * 4096 + 20, block, sizeof block));
    memset(block, 0, sizeof block);
    CHECK(!host_file_write(f, 2 * 4096 + 20, block, sizeof block));
    host_file_close(f);
    CHECK(random_steps("own.qcow2", IMAGE_WRITE, 50));
    CHECK(!checked("own.qcow2"));
    img = open_image("own.qcow2", "qcow2", 0);
    CHECK(img);
    CHECK(!qcow2_check(img, &result, false, NULL));
    CHECK_EQ(result.errors, 0);
    CHECK_EQ(result.leaks, 0);
    image_close(img);
}

TEST(qcow2_refuses_by_name)
{
    static const struct {
        const char *options, *expect;
    } rows[] = { { "-o compression_type=zstd", "zstd" }, { "-o extended_l2=on", "extended_l2" }, { "-o data_file=d.raw", "data_file" } };
    size_t i;
    struct image *img;
    struct err err;
    if (!have_qemu_img()) {
        printf("skip qcow2_refuses_by_name: no qemu-img\n");
        return;
    }
    for (i = 0; i < EMU_ARRAY_LEN(rows); i++) {
        if (sh("cd %s && rm -f x.qcow2 && qemu-img create -q -f qcow2 %s x.qcow2 8M 2>/dev/null", dir, rows[i].options))
            continue;
        CHECK_EQ(image_open(&machine, &img, path_of("x.qcow2"), NULL, 0, &err), EMU_ENOTSUP);
        CHECK(strstr(err.text, rows[i].expect));
    }
}

TEST(qcow2_says_what_is_wrong)
{
    struct image *img;
    struct err err;
    uint8_t *data;
    size_t size;
    CHECK(!sh("cd %s && rm -f *.qcow2", dir));
    rng_state = 900;
    CHECK(run_own_image(3, 16, 4, false, 8 * MIB, 20, IMAGE_WRITE));
    CHECK(!host_file_load(path_of("own.qcow2"), &data, &size, SIZE_MAX / 2, NULL));
    CHECK(!host_file_save(path_of("cut.qcow2"), data, 65536 + 100, NULL)); /* cut off in its tables */
    CHECK_EQ(image_open(&machine, &img, path_of("cut.qcow2"), NULL, IMAGE_WRITE, &err), EMU_EFORMAT);
    CHECK(strstr(err.text, "cut off"));
    data[0] = 'X';
    CHECK(!host_file_save(path_of("bad.qcow2"), data, size, NULL));
    CHECK_EQ(image_open(&machine, &img, path_of("bad.qcow2"), "qcow2", 0, &err), EMU_EFORMAT);
    CHECK(strstr(err.text, "format=raw"));
    free(data);
    CHECK_EQ(image_open(&machine, &img, path_of("nowhere.qcow2"), NULL, 0, &err), EMU_ENOENT);
    CHECK_EQ(image_open(&machine, &img, dir, NULL, 0, &err), EMU_EINVAL);
    CHECK(strstr(err.text, "folder"));
    CHECK_EQ(image_open(&machine, &img, "fat:rw:/tmp", NULL, 0, &err), EMU_ENOTSUP);
    CHECK_EQ(image_open(&machine, &img, "nbd:localhost:10809", NULL, 0, &err), EMU_ENOTSUP);
}

TEST(qcow2_finds_loop_and_missing_backing)
{
    struct qcow2_create_options o = { 0 };
    struct image *img;
    struct err err;
    o.backing_format = "qcow2";
    o.backing = "b.qcow2";
    CHECK(!qcow2_create(&machine, path_of("a.qcow2"), MIB, &o, NULL));
    CHECK_EQ(image_open(&machine, &img, path_of("a.qcow2"), NULL, IMAGE_WRITE, &err), EMU_ENOENT);
    CHECK(strstr(err.text, "\"b.qcow2\" does not exist"));
    o.backing = "a.qcow2";
    CHECK(!qcow2_create(&machine, path_of("b.qcow2"), MIB, &o, NULL));
    CHECK_EQ(image_open(&machine, &img, path_of("a.qcow2"), NULL, IMAGE_WRITE, &err), EMU_EFORMAT);
    CHECK(strstr(err.text, "loops"));
    CHECK_EQ(image_open(&machine, &img, path_of("b.qcow2"), NULL, 0, &err), EMU_EFORMAT);
}

TEST(image_locks_exclude_a_second_writer)
{
    struct image *a, *b;
    struct err err;
    CHECK(!qcow2_create(&machine, path_of("l.qcow2"), MIB, NULL, NULL));
    a = open_image("l.qcow2", NULL, IMAGE_WRITE);
    CHECK(a);
    CHECK_EQ(image_open(&machine, &b, path_of("l.qcow2"), NULL, IMAGE_WRITE, &err), EMU_EBUSY);
    CHECK(strstr(err.text, "in use"));
    CHECK_EQ(image_open(&machine, &b, path_of("l.qcow2"), NULL, 0, &err), EMU_EBUSY);
    CHECK(!image_open(&machine, &b, path_of("l.qcow2"), NULL, IMAGE_NO_LOCK, &err));
    image_close(b);
    if (have_qemu_img()) /* QEMU sees our lock */
        CHECK(sh("qemu-img info %s >/dev/null 2>&1", path_of("l.qcow2")) != 0);
    image_close(a);
    a = open_image("l.qcow2", NULL, 0);
    b = open_image("l.qcow2", NULL, 0); /* two readers are fine */
    CHECK(a && b);
    if (have_qemu_img()) {
        CHECK(sh("qemu-img info %s >/dev/null 2>&1", path_of("l.qcow2")) == 0);
        CHECK(sh("qemu-img resize -q %s 2M >/dev/null 2>&1", path_of("l.qcow2")) != 0);
    }
    image_close(a);
    image_close(b);
}

/* Bytes of every table are damaged at random: whatever is read or written, nothing crashes and no table is overwritten unseen. */
static bool damage_and_use(const char *seed_image, unsigned rounds)
{
    uint8_t *data, *copy;
    size_t size, k;
    unsigned round, opened = 0;
    if (host_file_load(path_of(seed_image), &data, &size, SIZE_MAX / 2, NULL))
        return false;
    copy = malloc(size);
    for (round = 0; round < rounds; round++) {
        struct image *img;
        unsigned flips = 1 + rng() % 20, i;
        memcpy(copy, data, size);
        for (i = 0; i < flips; i++) {
            size_t at = rng() % 3 ? rng() % 2048 : rng_below(size);
            copy[at] = rng() & 1 ? (uint8_t)rng() : copy[at] ^ (uint8_t)(1u << (rng() % 8));
        }
        if (round & 1) /* leave the magic number alone most of the time */
            memcpy(copy, data, 24);
        if (host_file_save(path_of("fuzz.qcow2"), copy, size, NULL))
            return false;
        if (image_open(&machine, &img, path_of("fuzz.qcow2"), "qcow2", (rng() & 1 ? IMAGE_WRITE : 0) | IMAGE_NO_BACKING, NULL))
            continue;
        opened++;
        for (k = 0; k < 40; k++) {
            uint64_t n = 512 * (1 + rng_below(64)), at;
            if (img->size_bytes < n)
                break;
            at = rng_below(EMU_MIN(img->size_bytes, 4 * MIB) - n + 1) / 512 * 512;
            if (n > EMU_MIN(img->size_bytes, 4 * MIB))
                continue;
            switch (rng() % 5) {
            case 0: image_write(img, at, data, (size_t)EMU_MIN(n, (uint64_t)size)); break;
            case 1: image_write_zeroes(img, at, n, true); break;
            case 2: image_discard(img, at, n); break;
            case 3: image_flush(img); break;
            default: image_read(img, at, scratch, (size_t)n);
            }
        }
        image_close(img);
        if (!(round % 16) && !image_open(&machine, &img, path_of("fuzz.qcow2"), "qcow2", IMAGE_NO_BACKING, NULL)) {
            struct qcow2_check_result result;
            qcow2_check(img, &result, false, NULL);
            image_close(img);
        }
    }
    printf("  %u of %u damaged images opened\n", opened, rounds);
    free(data);
    free(copy);
    return true;
}

TEST(qcow2_survives_flipped_bytes)
{
    unsigned rounds = getenv("LONG") && *getenv("LONG") ? 20000 : 600;
    rng_state = 1000;
    CHECK(run_own_image(3, 9, 4, false, MIB, 150, IMAGE_WRITE));
    CHECK(damage_and_use("own.qcow2", rounds));
    if (!have_qemu_img()) {
        printf("skip damaged compressed clusters and snapshots: no qemu-img\n");
        return;
    }
    CHECK(!sh("qemu-img convert -c -f qcow2 -O qcow2 -o cluster_size=4096 %s %s", path_of("own.qcow2"), path_of("c.qcow2")));
    CHECK(random_steps("c.qcow2", IMAGE_WRITE, 20));
    CHECK(!sh("qemu-img snapshot -c s %s", path_of("c.qcow2")));
    CHECK(random_steps("c.qcow2", IMAGE_WRITE, 20));
    CHECK(damage_and_use("c.qcow2", rounds));
}

/* Memory runs out at the n-th allocation, for every n: an error is reported, nothing leaks or crashes, the image stays sound. */
static unsigned allocations_left;
static long allocated;
static void *failing_allocator(void *opaque, void *p, size_t size)
{
    void *q;
    (void)opaque;
    if (!size) {
        allocated -= p != NULL;
        free(p);
        return NULL;
    }
    if (allocations_left && --allocations_left == 0)
        return NULL;
    q = realloc(p, size);
    allocated += q && !p;
    return q;
}
TEST(qcow2_survives_failed_allocations)
{
    struct qcow2_create_options o = { 0 };
    struct qcow2_check_result result;
    unsigned n, failures = 0;
    bool complete = false;
    model_make(3 * MIB);
    memset(model, 0x77, (size_t)model_size);
    machine.alloc_fn = failing_allocator;
    for (n = 1; !complete && n < 5000; n++) {
        struct image *img = NULL;
        struct err err;
        int r;
        allocations_left = 0;
        o.cluster_bits = 9;
        o.refcount_order = 6;
        o.refcount_order_set = true;
        CHECK(!qcow2_create(&machine, path_of("alloc.qcow2"), model_size, &o, &err));
        allocations_left = n;
        r = image_open(&machine, &img, path_of("alloc.qcow2"), "qcow2", IMAGE_WRITE, &err);
        if (!r)
            r = image_write(img, 5000 * 512, model, 60000);
        if (!r)
            r = image_write(img, 0, model, (size_t)model_size);
        if (!r)
            r = image_discard(img, 10 * 512, MIB);
        if (!r)
            r = image_flush(img);
        complete = allocations_left > 0;
        allocations_left = 0;
        failures += r != 0;
        if (img && r) { /* the guest tries again, and there is memory */
            CHECK(!image_write(img, 2 * MIB, model, 65536));
            CHECK(!image_flush(img));
        }
        if (img)
            image_close(img);
        CHECK_EQ(allocated, 0);
        CHECK(!image_open(&machine, &img, path_of("alloc.qcow2"), "qcow2", 0, &err));
        CHECK(!qcow2_check(img, &result, false, &err));
        CHECK_EQ(result.errors, 0);
        image_close(img);
    }
    machine.alloc_fn = NULL;
    CHECK(complete);
    CHECK(failures > 20);
    printf("  %u allocations, %u of them fatal\n", n - 1, failures);
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");
    machine.log_fn = keep_notice;
    snprintf(dir, sizeof dir, "%s/emu-qcow2-%ld", tmp && *tmp ? tmp : "/tmp", host_pid());
    sh("mkdir -p %s", dir);
}
TEST(zz_cleanup)
{
    CHECK(!sh("rm -rf %s", dir));
    free(model);
    free(scratch);
}
TEST(a_setup)
{
    setup();
    CHECK(host_path_kind(dir) == HOST_KIND_DIR);
}

TEST_MAIN(TEST_CASE(a_setup), TEST_CASE(qcow2_every_cluster_size), TEST_CASE(qcow2_every_refcount_width), TEST_CASE(qcow2_version_2_and_lazy_refcounts),
          TEST_CASE(qcow2_refcount_table_grows), TEST_CASE(qcow2_of_qemu_img_with_backing), TEST_CASE(qcow2_compressed_by_qemu_img),
          TEST_CASE(qcow2_keeps_internal_snapshots), TEST_CASE(qcow2_grows_by_resize), TEST_CASE(qcow2_large_virtual_disk), TEST_CASE(qcow2_repairs_dirty_image),
          TEST_CASE(qcow2_refuses_by_name), TEST_CASE(qcow2_says_what_is_wrong), TEST_CASE(qcow2_finds_loop_and_missing_backing),
          TEST_CASE(image_locks_exclude_a_second_writer), TEST_CASE(qcow2_survives_flipped_bytes), TEST_CASE(qcow2_survives_failed_allocations), TEST_CASE(zz_cleanup))
