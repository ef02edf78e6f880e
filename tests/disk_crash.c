/* disk_crash - qcow2 images after a power cut at any moment.
 *
 * Every write to the image is recorded. A cut is simulated before random syncs and between random requests: what was synced is there; of
 * every 512-byte sector written later each version may or may not have reached the disk. Then the image must open, its tables must
 * show no error (leaked clusters are allowed), and every sector that the guest flushed and did not touch again must read as flushed.
 * And images whose writes fail halfway: the next one must go on as if nothing had been there.
 */
#define host_file_write real_file_write
#define host_file_flush real_file_flush
#define host_file_resize real_file_resize
#define host_file_discard real_file_discard
#include "../src/host/posix.c"
#undef host_file_write
#undef host_file_flush
#undef host_file_resize
#undef host_file_discard
#include "../src/disk/image.h"
#include "test.h"

static struct emu machine;
static char dir[200], path[260], cut_path[260];

/* ---- the disk that forgets ---- */

enum { DISK_MAX = 24 << 20 };
struct record {
    uint64_t offset;
    size_t size;
    uint8_t *data;
};
static struct host_file *tracked;
static uint8_t *durable;
static uint64_t durable_size;
static struct record *records;
static size_t record_count, record_capacity;
static void before_sync(void);

static uint64_t rng_state;
static uint32_t rng(void)
{
    rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(rng_state >> 32);
}
static uint64_t rng_below(uint64_t n) { return (((uint64_t)rng() << 32) | rng()) % n; }

static uint64_t fail_offset, fail_size; /* a write that touches these bytes fails; 0: none */
static size_t fail_part;                /* so much of it is written all the same */

int host_file_write(struct host_file *f, uint64_t offset, const void *buf, size_t size)
{
    int r;
    if (fail_size && offset < fail_offset + fail_size && fail_offset < offset + size) {
        real_file_write(f, offset, buf, EMU_MIN(fail_part, size));
        return EMU_EIO;
    }
    r = real_file_write(f, offset, buf, size);
    if (f == tracked && !r) {
        if (offset + size > DISK_MAX)
            printf("image grew beyond the test's disk\n"), abort();
        if (record_count == record_capacity) {
            record_capacity = record_capacity * 2 + 64;
            records = realloc(records, record_capacity * sizeof *records);
        }
        records[record_count].offset = offset;
        records[record_count].size = size;
        records[record_count].data = malloc(size + 1);
        memcpy(records[record_count++].data, buf, size);
    }
    return r;
}
int host_file_flush(struct host_file *f)
{
    size_t i;
    if (f != tracked)
        return 0;
    before_sync();
    for (i = 0; i < record_count; i++) {
        memcpy(durable + records[i].offset, records[i].data, records[i].size);
        durable_size = EMU_MAX(durable_size, records[i].offset + records[i].size);
        free(records[i].data);
    }
    record_count = 0;
    if (host_file_size(f) > (int64_t)durable_size)
        durable_size = (uint64_t)host_file_size(f);
    return 0;
}
int host_file_resize(struct host_file *f, uint64_t size) { return real_file_resize(f, size); }
int host_file_discard(struct host_file *f, uint64_t offset, uint64_t size)
{
    (void)f, (void)offset, (void)size;
    return EMU_ENOTSUP;
}

/* ---- model ---- */

enum { MODEL_SIZE = 3 << 20 };
static uint8_t model[MODEL_SIZE], flushed[MODEL_SIZE], buf[MODEL_SIZE];
static uint8_t touched[MODEL_SIZE / 512]; /* since the last flush that the guest saw complete */
static bool bad;
static unsigned cuts, leaks;

static void cut(void)
{
    static uint8_t disk[DISK_MAX];
    uint64_t size = durable_size, k;
    struct image *img;
    struct qcow2_check_result result;
    struct err err;
    size_t i;
    unsigned luck = rng() % 4; /* everything lost, everything there, or a mixture */
    cuts++;
    memcpy(disk, durable, (size_t)durable_size);
    memset(disk + durable_size, 0, (size_t)(DISK_MAX - durable_size));
    for (i = 0; i < record_count; i++)
        for (k = 0; k < records[i].size;) {
            uint64_t at = records[i].offset + k, n = EMU_MIN(512 - at % 512, records[i].size - k);
            if (luck == 1 || (luck > 1 && rng() % 2)) {
                memcpy(disk + at, records[i].data + k, (size_t)n);
                size = EMU_MAX(size, at + n);
            }
            k += n;
        }
    if (host_file_save(cut_path, disk, (size_t)size, NULL))
        abort();
    err.text[0] = 0;
    if (image_open(&machine, &img, cut_path, "qcow2", 0, &err)) {
        printf("after the cut: %s\n", err.text);
        bad = true;
        return;
    }
    if (qcow2_check(img, &result, false, &err) || result.errors) {
        printf("after the cut: %" PRIu64 " errors %s\n", result.errors, err.text);
        bad = true;
    }
    leaks += result.leaks != 0;
    for (k = 0; k < MODEL_SIZE; k += 512) {
        uint8_t sector[512];
        if (touched[k / 512])
            continue;
        if (image_read(img, k, sector, 512) || memcmp(sector, flushed + k, 512)) {
            printf("a flushed sector is lost at 0x%" PRIx64 "\n", k);
            bad = true;
            break;
        }
    }
    image_close(img);
}

static void before_sync(void)
{
    if (!(rng() % 3) && !bad)
        cut();
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");
    char cmd[300];
    durable = malloc(DISK_MAX);
    snprintf(dir, sizeof dir, "%s/emu-crash-%ld", tmp && *tmp ? tmp : "/tmp", host_pid());
    snprintf(path, sizeof path, "%s/live.qcow2", dir);
    snprintf(cut_path, sizeof cut_path, "%s/cut.qcow2", dir);
    snprintf(cmd, sizeof cmd, "mkdir -p %s", dir);
    if (!durable || system(cmd))
        exit(1);
}

static bool run(unsigned cluster_bits, unsigned order, unsigned version, bool snapshots, unsigned flags, unsigned steps)
{
    struct qcow2_create_options o = { 0 };
    struct image *img;
    struct err err;
    uint8_t *start;
    size_t size;
    unsigned step;
    if (!*dir)
        setup();
    o.cluster_bits = cluster_bits;
    o.refcount_order = order;
    o.refcount_order_set = true;
    o.version = version;
    tracked = NULL;
    bad = false;
    memset(model, 0, sizeof model);
    memset(flushed, 0, sizeof flushed);
    memset(touched, 0, sizeof touched);
    if (qcow2_create(&machine, path, MODEL_SIZE, &o, &err))
        return false;
    if (snapshots) { /* a full image, then shared with a snapshot: everything is copied on write */
        char cmd[600];
        size_t i;
        if (image_open(&machine, &img, path, "qcow2", IMAGE_WRITE, &err))
            return false;
        for (i = 0; i < sizeof model; i++)
            model[i] = (uint8_t)(i >> 9 | 1);
        if (image_write(img, 0, model, sizeof model) || image_close(img))
            return false;
        memcpy(flushed, model, sizeof model);
        snprintf(cmd, sizeof cmd, "qemu-img snapshot -c s %s", path);
        if (system(cmd)) {
            printf("skip crash_with_snapshot: no qemu-img\n");
            return true;
        }
    }
    if (host_file_load(path, &start, &size, DISK_MAX, NULL))
        return false;
    memset(durable, 0, DISK_MAX);
    memcpy(durable, start, size);
    durable_size = size;
    free(start);
    if (image_open(&machine, &img, path, "qcow2", IMAGE_WRITE | flags, &err))
        return false;
    tracked = img->file;
    for (step = 0; step < steps && !bad; step++) {
        uint64_t n = 512 * (1 + rng_below(rng() % 4 ? 24 : 400)), at = rng_below((MODEL_SIZE - n) / 512 + 1) * 512, i;
        unsigned what = rng() % 20;
        int r = 0;
        if (what < 13) {
            for (i = 0; i < n; i++)
                buf[i] = (uint8_t)(step + (i >> 9) + 1);
            memset(touched + at / 512, 1, (size_t)(n / 512));
            r = image_write(img, at, buf, (size_t)n);
            memcpy(model + at, buf, (size_t)n);
        } else if (what < 15) {
            memset(touched + at / 512, 1, (size_t)(n / 512));
            r = image_write_zeroes(img, at, n, rng() & 1);
            memset(model + at, 0, (size_t)n);
        } else if (what < 17) {
            memset(touched + at / 512, 1, (size_t)(n / 512));
            r = image_discard(img, at, n);
            if (!r)
                r = image_read(img, at, model + at, (size_t)n);
        } else if (what < 19) {
            r = image_flush(img);
            memcpy(flushed, model, sizeof model);
            memset(touched, 0, sizeof touched);
        }
        if (r) {
            printf("step %u: %s\n", step, emu_strerror(r));
            bad = true;
        }
        if (!(rng() % 6) && !bad)
            cut();
    }
    if (image_read(img, 0, buf, sizeof buf) || memcmp(buf, model, sizeof model))
        bad = true;
    if (image_close(img))
        bad = true;
    tracked = NULL;
    while (record_count)
        free(records[--record_count].data);
    return !bad;
}

static unsigned steps_for_run(void) { return getenv("LONG") && *getenv("LONG") ? 2000 : 150; }

TEST(crash_with_small_clusters)
{
    rng_state = 1;
    CHECK(run(9, 4, 3, false, 0, steps_for_run()));
    CHECK(run(9, 6, 3, false, 0, steps_for_run())); /* the refcount table grows */
}
TEST(crash_with_usual_clusters)
{
    rng_state = 2;
    CHECK(run(12, 4, 3, false, IMAGE_UNMAP, steps_for_run()));
    CHECK(run(16, 4, 3, false, 0, steps_for_run()));
    CHECK(run(16, 4, 2, false, IMAGE_UNMAP, steps_for_run()));
}
TEST(crash_with_snapshot)
{
    rng_state = 3;
    CHECK(run(9, 4, 3, true, 0, steps_for_run()));
    CHECK(run(12, 4, 3, true, 0, steps_for_run()));
    printf("  %u cuts, %u with leaks\n", cuts, leaks);
    CHECK(cuts > 100);
}
/* ---- writes that fail ---- */

static struct image *fresh_image(unsigned cluster_bits, unsigned order)
{
    struct qcow2_create_options o = { 0 };
    struct image *img;
    struct err err;
    if (!*dir)
        setup();
    tracked = NULL;
    o.cluster_bits = cluster_bits;
    o.refcount_order = order;
    o.refcount_order_set = true;
    if (qcow2_create(&machine, path, MODEL_SIZE, &o, &err) || image_open(&machine, &img, path, "qcow2", IMAGE_WRITE, &err))
        return NULL;
    return img;
}
static bool sound(bool leaks_allowed)
{
    struct qcow2_check_result result;
    struct image *img;
    struct err err;
    bool ok;
    err.text[0] = 0;
    if (image_open(&machine, &img, path, "qcow2", 0, &err)) {
        printf("%s\n", err.text);
        return false;
    }
    ok = !qcow2_check(img, &result, false, &err) && !result.errors && (leaks_allowed || !result.leaks);
    if (!ok)
        printf("%" PRIu64 " errors, %" PRIu64 " leaks %s\n", result.errors, result.leaks, err.text);
    image_close(img);
    return ok;
}
TEST(half_written_clusters_are_not_zeros)
{
    unsigned part;
    for (part = 512; part <= 4 * 65536; part *= 2) {
        struct image *img = fresh_image(16, 4);
        CHECK(img);
        memset(buf, 0xEE, 4 * 65536);
        fail_offset = (uint64_t)host_file_size(img->file); /* wherever the new clusters are put */
        fail_size = UINT64_C(1) << 40;
        fail_part = part;
        CHECK_EQ(image_write(img, 0, buf, 4 * 65536), EMU_EIO);
        fail_size = 0;
        memset(buf, 0x11, 512);
        CHECK(!image_write(img, 10 * 65536 + 1024, buf, 512));
        CHECK(!image_read(img, 10 * 65536, buf, 4 * 65536));
        CHECK(image_all_zero(buf, 1024) && buf[1024] == 0x11 && buf[1535] == 0x11 && image_all_zero(buf + 1536, 4 * 65536 - 1536));
        CHECK(!image_close(img));
        CHECK(sound(false));
    }
}
/* The first write of a refcount table entry fails; whoever tries again gets through. Odd: runs that begin in one block's reach and end in the next's. */
TEST(refcount_table_entry_that_is_not_written)
{
    unsigned round;
    for (round = 6; round <= 13; round++) {
        struct image *img = fresh_image(9, round / 2);
        unsigned failures = 0, n = round & 1 ? 7 * 512 : 512;
        uint64_t at;
        CHECK(img);
        memset(buf, 0x55, n);
        for (at = 0; at < 512 * 700; at += n) {
            int r;
            fail_offset = 512; /* the refcount table follows the header */
            fail_size = 512;
            fail_part = 0;
            r = image_write(img, at, buf, n);
            fail_size = 0;
            if (r) {
                CHECK_EQ(r, EMU_EIO);
                failures++;
                CHECK(!image_write(img, at, buf, n));
            }
        }
        CHECK(failures > 0);
        CHECK(!image_close(img));
        CHECK(sound(false));
    }
}
TEST(zz_cleanup)
{
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK(!system(cmd));
    free(durable);
    free(records);
}

TEST_MAIN(TEST_CASE(crash_with_small_clusters), TEST_CASE(crash_with_usual_clusters), TEST_CASE(crash_with_snapshot),
          TEST_CASE(half_written_clusters_are_not_zeros), TEST_CASE(refcount_table_entry_that_is_not_written), TEST_CASE(zz_cleanup))
