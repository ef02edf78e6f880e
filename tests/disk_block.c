/* disk_block - drives over raw images: the event queue, options, snapshots, media, error policies; and the DEFLATE decoder. */
#include "../src/machine.h"
#include "../src/disk/image.h"
#include "test.h"
#include <errno.h>

static struct emu machine;
static char dir[200], notice[500];

static void keep_notice(void *opaque, unsigned mask, const char *text)
{
    (void)opaque, (void)mask;
    snprintf(notice, sizeof notice, "%s", text);
}
static void setup(void);
static const char *path_of(const char *name)
{
    static char paths[4][300];
    static int turn;
    char *p = paths[turn++ & 3];
    if (!*dir) /* one test alone */
        setup();
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}
static bool make_file(const char *name, size_t size, int fill)
{
    uint8_t *p = malloc(size + 1);
    size_t i;
    int r;
    for (i = 0; i < size; i++)
        p[i] = (uint8_t)(fill < 0 ? i >> 9 : (size_t)fill);
    r = host_file_save(path_of(name), p, size, NULL);
    free(p);
    return r == 0;
}
static struct blk *drive(const char *text, struct err *err)
{
    static struct options o[8];
    static int turn;
    struct options *mine = &o[turn++ & 7];
    struct blk *b;
    options_free(mine);
    err->text[0] = 0;
    if (options_parse(mine, &machine, "-drive", text, NULL, err))
        return NULL;
    b = blk_create(&machine, "d0", err);
    if (b && !blk_open(b, mine, err) && !options_check_used(mine, err))
        return b;
    if (b)
        blk_destroy(b);
    return NULL;
}
static int64_t virtual_ns;
/* -icount mode: time moves only when we say so. */
static void run_until(int64_t ns)
{
    virtual_ns = ns;
    machine.icount_bias_ns = ns;
    clock_run_timers(&machine);
}

static int done_count, done_result;
static void done(void *opaque, int result)
{
    (void)opaque;
    done_count++;
    done_result = result;
}
static void submit(struct blk *b, struct blk_request *r, unsigned op, uint64_t offset, struct host_iov *iov, int count, uint64_t size)
{
    memset(r, 0, sizeof *r);
    r->op = (uint8_t)op;
    r->offset = offset;
    r->size = size;
    r->iov = iov;
    r->iov_count = count;
    r->done = done;
    blk_submit(b, r);
}

TEST(request_completes_from_the_event_queue_at_a_fixed_time)
{
    struct err err;
    char text[300];
    struct blk *b;
    struct blk_request r;
    uint8_t a[700], c[324];
    struct host_iov iov[2];
    CHECK(make_file("raw", 1 << 20, -1));
    snprintf(text, sizeof text, "file=%s,format=raw,if=ide,index=0,media=disk", path_of("raw"));
    b = drive(text, &err);
    CHECK(b);
    CHECK_EQ(b->size_bytes, 1 << 20);
    iov[0].base = a;
    iov[0].size = sizeof a;
    iov[1].base = c;
    iov[1].size = sizeof c;
    done_count = 0;
    submit(b, &r, BLK_READ, 5 * 512, iov, 2, 1024);
    CHECK_EQ(done_count, 0);
    CHECK_EQ(b->in_flight, 1);
    run_until(virtual_ns + 20 * 1000);
    CHECK_EQ(done_count, 0);
    run_until(virtual_ns + 512);
    CHECK_EQ(done_count, 1);
    CHECK_EQ(done_result, 0);
    CHECK(a[0] == 5 && a[511] == 5 && a[512] == 6 && c[323] == 6);
    submit(b, &r, BLK_WRITE, 0, iov, 2, 1024);
    blk_cancel(b, &r);
    run_until(virtual_ns + NS_PER_MS);
    CHECK_EQ(done_count, 1);
    CHECK_EQ(b->in_flight, 0); /* (what was submitted is on the disk all the same) */
    submit(b, &r, BLK_READ, (1 << 20) - 512, iov, 2, 1024);
    run_until(virtual_ns + NS_PER_MS);
    CHECK_EQ(done_result, EMU_ERANGE);
    submit(b, &r, BLK_FLUSH, 0, NULL, 0, 0);
    run_until(virtual_ns + NS_PER_MS);
    CHECK_EQ(done_result, 0);
    submit(b, &r, BLK_READ, 0, iov, 1, 1024); /* pieces too small: a device's bug is no overflow */
    run_until(virtual_ns + NS_PER_MS);
    CHECK_EQ(done_result, EMU_EINVAL);
    blk_close_all(&machine);
}

TEST(read_only_drive_refuses_writes)
{
    struct err err;
    char text[300];
    uint8_t sector[512] = { 0 };
    struct blk *b;
    CHECK(make_file("raw", 1 << 20, -1));
    snprintf(text, sizeof text, "file=%s,format=raw,readonly=on", path_of("raw"));
    b = drive(text, &err);
    CHECK(b);
    CHECK_EQ(blk_write_sync(b, 0, sector, 512), EMU_EROFS);
    CHECK_EQ(blk_read_sync(b, 512, sector, 512), 0);
    CHECK_EQ(sector[0], 1);
    blk_close_all(&machine);
}

TEST(snapshot_is_thrown_away)
{
    struct err err;
    char text[300];
    uint8_t *big = malloc(300000), *again = malloc(300000), sector[512];
    uint64_t i;
    struct blk *b;
    static uint8_t model[1 << 20];
    unsigned step;
    uint64_t rng = 7;
    CHECK(make_file("raw", 1 << 20, -1));
    for (i = 0; i < sizeof model; i++)
        model[i] = (uint8_t)(i >> 9);
    snprintf(text, sizeof text, "file=%s,format=raw,snapshot=on", path_of("raw"));
    b = drive(text, &err);
    CHECK(b);
    CHECK(!b->read_only);
    for (step = 0; step < 2000; step++) {
        uint64_t n, at;
        rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407u;
        n = ((rng >> 33) % (step & 7 ? 40 : 500) + 1) * 512;
        at = (rng >> 20) % ((sizeof model - n) / 512 + 1) * 512;
        if (step % 5 == 4) {
            CHECK(!image_write_zeroes(b->image, at, n, true));
            memset(model + at, 0, (size_t)n);
        } else if (step % 5 < 2) {
            memset(big, (int)step, (size_t)n);
            CHECK(!blk_write_sync(b, at, big, (size_t)n));
            memcpy(model + at, big, (size_t)n);
        } else {
            CHECK(!blk_read_sync(b, at, again, (size_t)n));
            CHECK(!memcmp(again, model + at, (size_t)n));
        }
    }
    blk_close_all(&machine);
    snprintf(text, sizeof text, "file=%s,format=raw", path_of("raw"));
    b = drive(text, &err);
    CHECK(b);
    for (i = 0; i < 1 << 20; i += 512) {
        CHECK(!blk_read_sync(b, i, sector, 512));
        CHECK(sector[0] == (uint8_t)(i >> 9) && sector[511] == sector[0]);
    }
    blk_close_all(&machine);
    free(big);
    free(again);
}

TEST(odd_size_is_padded_and_writable)
{
    struct err err;
    char text[300];
    uint8_t sector[512];
    uint8_t *data;
    size_t size;
    struct blk *b;
    CHECK(make_file("odd", 1000, 0x55));
    snprintf(text, sizeof text, "file=%s,format=raw", path_of("odd"));
    b = drive(text, &err);
    CHECK(b);
    CHECK_EQ(b->size_bytes, 1024);
    CHECK(!blk_read_sync(b, 512, sector, 512));
    CHECK(sector[487] == 0x55 && sector[488] == 0 && sector[511] == 0);
    memset(sector, 1, sizeof sector);
    CHECK(!blk_write_sync(b, 512, sector, 512));
    blk_close_all(&machine);
    CHECK(!host_file_load(path_of("odd"), &data, &size, 9999, NULL));
    CHECK_EQ(size, 1024);
    CHECK_EQ(data[1023], 1);
    free(data);
}

/* A guest must not turn an image whose format was guessed into one that names a backing file (as QEMU has it). */
TEST(guessed_raw_image_stays_raw)
{
    struct err err;
    char text[300];
    uint8_t sector[512] = { 'Q', 'F', 'I', 0xFB, 0, 0, 0, 3 };
    struct blk *b;
    CHECK(make_file("raw", 1 << 20, 0));
    snprintf(text, sizeof text, "file=%s", path_of("raw"));
    b = drive(text, &err);
    CHECK(b);
    CHECK(strstr(notice, "format not given"));
    CHECK_EQ(blk_write_sync(b, 0, sector, 512), EMU_EACCES);
    sector[0] = 'X';
    CHECK_EQ(blk_write_sync(b, 0, sector, 512), 0);
    CHECK_EQ(image_write(b->image, 0, "Q", 1), EMU_EACCES);
    blk_close_all(&machine);
    snprintf(text, sizeof text, "file=%s,format=raw", path_of("raw"));
    b = drive(text, &err);
    CHECK(b);
    sector[0] = 'Q';
    CHECK_EQ(blk_write_sync(b, 0, sector, 512), 0);
    blk_close_all(&machine);
}

TEST(bad_drives_are_named)
{
    static const char *const rows[][2] = {
        { "file=%s/nowhere", "nowhere" }, { "file=%s", "folder" }, { "file=%s/empty", "empty (0 bytes)" }, { "format=raw", "needs file=" }, { "file=%s/raw,format=vmdk", "qemu-img convert" },
        { "file=%s/raw,format=xyz", "unknown format" }, { "file=%s/raw,cache=odd", "writethrough" }, { "file=%s/raw,bogus=1", "bogus" }, { "file=%s/raw,copy-on-read=on", "copy-on-read" },
        { "file=fat:rw:%s", "FAT" }, { "file=%s/raw,readonly=maybe", "on or off" }, { "file=%s/vmdk", "vmdk" }, { "file=%s/raw,rerror=enospc", "rerror" }, { "file=https://x/y", "https" },
        { "file=embed:none", "no disk of that name" }, { "file=%s/fifo", "regular file" },
    };
    size_t i;
    char cmd[300];
    CHECK(make_file("empty", 0, 0) && make_file("raw", 1 << 20, -1));
    CHECK(!host_file_save(path_of("vmdk"), "KDMVxxxxxxxxxxxxxxxxxxxxxxxxxxx", 30, NULL));
    snprintf(cmd, sizeof cmd, "mkfifo %s", path_of("fifo"));
    CHECK(!system(cmd));
    for (i = 0; i < EMU_ARRAY_LEN(rows); i++) {
        char text[600];
        struct err err;
        const char *at = strstr(rows[i][0], "%s");
        snprintf(text, sizeof text, "%.*s%s%s", at ? (int)(at - rows[i][0]) : (int)strlen(rows[i][0]), rows[i][0], at ? dir : "", at ? at + 2 : "");
        if (drive(text, &err) || !strstr(err.text, rows[i][1]))
            printf("%s: \"%s\"\n", text, err.text), *test_failed = 1;
        blk_close_all(&machine);
    }
}

static int changes;
static void changed(void *opaque)
{
    (void)opaque;
    changes++;
}
TEST(media_change_and_eject)
{
    struct err err;
    char text[300];
    uint8_t sector[512];
    struct blk *b = drive("if=ide,index=2,media=cdrom", &err);
    CHECK(b);
    CHECK(b->removable && b->read_only && !b->image);
    CHECK_EQ(blk_read_sync(b, 0, sector, 512), EMU_ENOENT);
    b->media_changed = changed;
    CHECK(make_file("one", 2048, 1) && make_file("two", 4096, 2));
    CHECK(!blk_change(b, path_of("one"), "raw", &err));
    CHECK_EQ(changes, 1);
    CHECK_EQ(b->size_bytes, 2048);
    CHECK(blk_change(b, path_of("nowhere"), NULL, &err) < 0);
    CHECK(!blk_read_sync(b, 0, sector, 512)); /* the old one stays */
    CHECK_EQ(sector[0], 1);
    b->locked = true;
    CHECK_EQ(blk_eject(b, false, &err), EMU_EBUSY);
    CHECK_EQ(blk_change(b, path_of("two"), NULL, &err), EMU_EBUSY);
    CHECK(!blk_eject(b, true, &err));
    CHECK_EQ(b->size_bytes, 0);
    b->locked = false;
    CHECK(!blk_change(b, path_of("two"), NULL, &err));
    CHECK(!blk_read_sync(b, 0, sector, 512));
    CHECK_EQ(sector[0], 2);
    CHECK_EQ(blk_write_sync(b, 0, sector, 512), EMU_EROFS);
    snprintf(text, sizeof text, "%s", path_of("two"));
    blk_close_all(&machine);
}

static struct {
    int fail;
    int writes, flushes;
} provided_state;
static uint8_t provided_bytes[8192];
static int provided_read(void *opaque, uint64_t offset, void *buf, size_t n)
{
    (void)opaque;
    memcpy(buf, provided_bytes + offset, n);
    return 0;
}
static int provided_write(void *opaque, uint64_t offset, const void *buf, size_t n)
{
    (void)opaque;
    provided_state.writes++;
    if (provided_state.fail)
        return provided_state.fail;
    memcpy(provided_bytes + offset, buf, n);
    return 0;
}
static int provided_flush(void *opaque)
{
    (void)opaque;
    provided_state.flushes++;
    return 0;
}
static bool find_disk(struct emu *e, const char *name, struct emu_disk_ops *ops, void **opaque)
{
    (void)e;
    memset(ops, 0, sizeof *ops);
    ops->bytes = sizeof provided_bytes;
    ops->read = provided_read;
    ops->write = provided_write;
    ops->flush = provided_flush;
    *opaque = NULL;
    return !strcmp(name, "mine");
}
static bool resumable(struct emu *e)
{
    (void)e;
    return true;
}
TEST(embedded_disk_and_full_disk)
{
    int i;
    struct err err;
    struct blk_request r;
    uint8_t sector[512];
    struct host_iov iov;
    struct blk *b;
    machine.find_disk = find_disk;
    memset(sector, 9, sizeof sector);
    iov.base = sector;
    iov.size = 512;
    b = drive("file=embed:mine,format=raw", &err);
    CHECK(b);
    CHECK_EQ(b->size_bytes, 8192);
    CHECK(!blk_write_sync(b, 512, sector, 512));
    CHECK_EQ(provided_bytes[512], 9);
    CHECK(!blk_flush_sync(b));
    CHECK_EQ(provided_state.flushes, 1);
    provided_state.fail = EMU_ENOSPC;
    submit(b, &r, BLK_WRITE, 0, &iov, 1, 512);
    done_count = 0;
    run_until(virtual_ns + NS_PER_MS);
    CHECK_EQ(done_count, 1); /* the guest sees an error */
    CHECK_EQ(done_result, EMU_ENOSPC);
    CHECK(strstr(notice, "full"));
    CHECK(!(machine.requests & REQ_STOP)); /* there is nobody who could resume it */
    blk_close_all(&machine);

    for (i = 0; i < 2; i++) { /* asked for; or, as QEMU's default has it, where there is a monitor */
        machine.can_be_resumed = i ? resumable : NULL;
        provided_state.fail = EMU_ENOSPC;
        provided_bytes[0] = 0;
        b = drive(i ? "file=embed:mine,format=raw,cache=writethrough" : "file=embed:mine,format=raw,werror=enospc,cache=writethrough", &err);
        CHECK(b);
        done_count = 0;
        machine.requests = 0;
        submit(b, &r, BLK_WRITE, 0, &iov, 1, 512);
        run_until(virtual_ns + 100 * NS_PER_US);
        CHECK_EQ(done_count, 0);
        CHECK(machine.requests & REQ_STOP);
        provided_state.fail = 0; /* somebody made room, and cont */
        provided_state.flushes = 0;
        run_until(virtual_ns + 10 * NS_PER_MS);
        CHECK_EQ(done_count, 1);
        CHECK_EQ(done_result, 0);
        CHECK_EQ(provided_bytes[0], 9);
        CHECK_EQ(provided_state.flushes, 1); /* writethrough */
        machine.requests = 0;
        if (i) { /* another error is the guest's to see */
            provided_state.fail = EMU_EIO;
            done_count = 0;
            submit(b, &r, BLK_WRITE, 0, &iov, 1, 512);
            run_until(virtual_ns + NS_PER_MS);
            CHECK_EQ(done_count, 1);
            CHECK_EQ(done_result, EMU_EIO);
            CHECK(!(machine.requests & REQ_STOP));
            provided_state.fail = 0;
        }
        blk_close_all(&machine);
    }
    machine.can_be_resumed = NULL;
}

/* A flush that failed once: what was written may be lost, so that no cont makes it good. */
#ifdef __linux__
static int sync_fails;
static unsigned syncs;
int fdatasync(int fd) /* before the C library's */
{
    (void)fd;
    syncs++;
    errno = sync_fails;
    return sync_fails ? -1 : 0;
}
TEST(failed_flush_is_not_made_good)
{
    static const char *const policies[] = { "report", "stop", "stop,cache=writethrough" };
    uint8_t sector[512] = { 7 };
    struct host_iov iov;
    size_t i;
    iov.base = sector;
    iov.size = 512;
    CHECK(make_file("lost", 8192, 0));
    machine.can_be_resumed = resumable;
    for (i = 0; i < EMU_ARRAY_LEN(policies); i++) {
        struct err err;
        struct blk_request r;
        char text[400];
        struct blk *b;
        int conts;
        snprintf(text, sizeof text, "file=%s,format=raw,werror=%s", path_of("lost"), policies[i]);
        b = drive(text, &err);
        CHECK(b);
        done_count = 0;
        sync_fails = EIO;
        submit(b, &r, i == 2 ? BLK_WRITE : BLK_FLUSH, 0, &iov, 1, i == 2 ? 512 : 0);
        sync_fails = 0;
        for (conts = 0; conts < 3; conts++) {
            machine.requests = 0;
            syncs = 0;
            run_until(virtual_ns + NS_PER_MS + 100 * NS_PER_US);
            CHECK_EQ(done_count, i == 0);
            CHECK_EQ(machine.requests & REQ_STOP, i ? REQ_STOP : 0); /* each cont stops again, after a millisecond of virtual time */
            CHECK_EQ(syncs, 0);
            if (i == 0) {
                CHECK_EQ(done_result, EMU_EIO);
                done_count = 0;
                submit(b, &r, BLK_FLUSH, 0, NULL, 0, 0);
            }
        }
        machine.requests = 0;
        blk_close_all(&machine); /* nothing is left under way */
        CHECK(strstr(notice, "may be lost"));
        b = drive(text, &err);
        CHECK(b);
        CHECK(!blk_flush_sync(b));
        blk_close_all(&machine);
    }
    machine.can_be_resumed = NULL;
}
#else
TEST(failed_flush_is_not_made_good) { SKIP("replaces Linux's fdatasync()"); }
#endif

/* ---- the CD drive of a whole machine ---- */

static void cd_wait(struct emu *e)
{
    int64_t end = emu_now_ns(e) + 10 * NS_PER_MS;
    while (clock_next_deadline(e) <= end) {
        clock_warp_to(e, clock_next_deadline(e));
        clock_run_timers(e);
    }
    clock_warp_to(e, end);
}
/* A 12-byte packet to the master of the secondary channel; up to 8 bytes of answer. */
static void cd_packet(struct emu *e, const uint8_t *packet, uint8_t *answer)
{
    unsigned i;
    memset(answer, 0, 8);
    port_write(e, 0x176, 0xA0, 1), port_write(e, 0x171, 0, 1), port_write(e, 0x174, 8, 1), port_write(e, 0x175, 0, 1), port_write(e, 0x177, 0xA0, 1);
    cd_wait(e);
    for (i = 0; i < 12; i += 2)
        port_write(e, 0x170, ld16le(packet + i), 2);
    cd_wait(e);
    for (i = 0; i < 8 && port_read(e, 0x177, 1) & 8; i += 2)
        st16le(answer + i, (uint16_t)port_read(e, 0x170, 2));
}
TEST(cd_medium_is_opened_read_only)
{
    static const char *const machines[][2] = {
        { "-m", "16M" }, { "-device", "ide-cd" }, { "-drive", "if=ide,index=2,media=cdrom" },
    };
    size_t i;
    CHECK(make_file("cd", 4096, 3));
    for (i = 0; i < EMU_ARRAY_LEN(machines); i++) {
        const char *argv[] = { "-display", "none", "-net", "none", "-monitor", "none", "-serial", "none", NULL, NULL };
        char error[300] = "";
        struct emu *e = emu_new(NULL);
        struct image *reader;
        struct blk *b;
        struct err err;
        argv[8] = machines[i][0], argv[9] = machines[i][1];
        CHECK(e);
        if (emu_configure(e, 10, argv, error, sizeof error))
            printf("%s\n", error), *test_failed = 1;
        for (b = e->drives; b && !(b->removable && b->ide_place); b = b->next) {
        }
        CHECK(b);
        CHECK(b->read_only);
        CHECK(!blk_change(b, path_of("cd"), "raw", &err));
        CHECK(b->image->read_only && b->read_only);
        CHECK(!image_open(&machine, &reader, path_of("cd"), "raw", 0, &err)); /* its lock leaves room for others */
        CHECK(!image_close(reader));
        emu_destroy(e);
    }
}
TEST(locked_tray_asks_the_guest)
{
    static const uint8_t event[12] = { 0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8 }, lock[12] = { 0x1E, 0, 0, 0, 1 }, unlock[12] = { 0x1E }, ready[12] = { 0 };
    const char *argv[] = { "-display", "none", "-net", "none", "-monitor", "none", "-serial", "none", "-m", "16M", "-icount", "shift=0" };
    char error[300] = "";
    struct emu *e = emu_new(NULL);
    uint8_t a[8];
    struct err err;
    struct blk *b;
    int i;
    CHECK(make_file("cd", 4096, 3) && make_file("cd2", 4096, 4));
    CHECK(e);
    CHECK_EQ(emu_configure(e, EMU_ARRAY_LEN(argv), argv, error, sizeof error), 0);
    b = blk_find(e, "ide1-cd0");
    CHECK(b);
    CHECK(!blk_change(b, path_of("cd"), "raw", &err));
    cd_packet(e, event, a);
    CHECK_EQ(a[4], 2); /* new medium */
    cd_packet(e, ready, a); /* its unit attention */
    cd_packet(e, lock, a);
    CHECK(b->locked);
    for (i = 0; i < 2; i++) {
        CHECK_EQ(i ? blk_change(b, path_of("cd2"), "raw", &err) : blk_eject(b, false, &err), EMU_EBUSY);
        cd_packet(e, event, a);
        CHECK_EQ(a[4], 1); /* MMC-3 GET EVENT STATUS NOTIFICATION: eject request */
        CHECK_EQ(a[5], 2); /* the medium is there */
        cd_packet(e, event, a);
        CHECK_EQ(a[4], 0);
    }
    cd_packet(e, unlock, a);
    CHECK(!b->locked);
    CHECK(!blk_change(b, path_of("cd2"), "raw", &err));
    cd_packet(e, event, a);
    CHECK_EQ(a[4], 2);
    CHECK(!blk_eject(b, false, &err));
    cd_packet(e, event, a);
    CHECK_EQ(a[4], 3); /* removed */
    emu_destroy(e);
}

TEST(file_beyond_4_gib)
{
    struct err err;
    char text[300];
    struct host_file *f;
    uint8_t sector[512], back[512];
    struct blk *b;
    uint64_t size = 5 * GIB;
    CHECK(!host_file_open(&f, path_of("large"), HOST_OPEN_WRITE | HOST_OPEN_CREATE, NULL));
    CHECK(!host_file_resize(f, size));
    host_file_close(f);
    snprintf(text, sizeof text, "file=%s,format=raw,discard=unmap", path_of("large"));
    b = drive(text, &err);
    CHECK(b);
    CHECK_EQ(b->size_bytes, size);
    memset(sector, 0xA5, sizeof sector);
    CHECK(!blk_write_sync(b, size - 512, sector, 512));
    CHECK(!blk_write_sync(b, 4 * GIB, sector, 512));
    CHECK(!blk_read_sync(b, 0, back, 512) && image_all_zero(back, 512));
    CHECK(!blk_read_sync(b, size - 512, back, 512) && !memcmp(sector, back, 512));
    CHECK(!image_discard(b->image, 4 * GIB, 1 << 20));
    CHECK(!blk_read_sync(b, 4 * GIB, back, 512));
    blk_close_all(&machine);
}

/* ---- DEFLATE ---- */

TEST(inflate_decodes_what_gzip_makes)
{
    static const char *const makers[] = { "head -c 300000 /dev/zero", "i=0; while [ $i -lt 4000 ]; do echo line $i of the text; i=$((i+1)); done", "head -c 200000 /dev/urandom",
                                          "printf ''", "printf abcabcabcabcabcabcabc" };
    size_t i, level;
    if (system("gzip --version >/dev/null 2>&1")) {
        printf("skip inflate_decodes_what_gzip_makes: no gzip\n");
        return;
    }
    for (i = 0; i < EMU_ARRAY_LEN(makers); i++)
        for (level = 1; level <= 9; level += 4) {
            char cmd[600];
            uint8_t *plain, *packed, *out;
            size_t plain_size, packed_size, produced, consumed;
            snprintf(cmd, sizeof cmd, "{ %s ; } > %s && gzip -n -%u < %s > %s", makers[i], path_of("plain"), (unsigned)level, path_of("plain"), path_of("gz"));
            CHECK(!system(cmd));
            CHECK(!host_file_load(path_of("plain"), &plain, &plain_size, 1 << 22, NULL));
            CHECK(!host_file_load(path_of("gz"), &packed, &packed_size, 1 << 22, NULL));
            out = malloc(plain_size + 1);
            CHECK_EQ(inflate_raw(packed + 10, packed_size - 18, out, plain_size, &produced, &consumed), 0);
            CHECK_EQ(produced, plain_size);
            CHECK_EQ(consumed, packed_size - 18);
            CHECK(!memcmp(out, plain, plain_size));
            if (plain_size) {
                CHECK_EQ(inflate_raw(packed + 10, packed_size - 18, out, plain_size - 1, &produced, &consumed), EMU_ERANGE);
                CHECK_EQ(produced, plain_size - 1);
                CHECK_EQ(inflate_raw(packed + 10, packed_size - 18 - (packed_size - 18 > 3 ? 3 : 1), out, plain_size, &produced, &consumed), EMU_EFORMAT);
            }
            free(plain);
            free(packed);
            free(out);
        }
}

TEST(inflate_survives_anything)
{
    static uint8_t in[600], out[5000];
    static const uint8_t seed[] = { 0x05, 0xc1, 0x01, 0x01, 0x00, 0x00, 0x00, 0x80, 0x10, 0xff, 0x4f, 0x17 };
    uint64_t rng = 1;
    unsigned round, rounds = getenv("LONG") && *getenv("LONG") ? 5000000 : 100000, ok = 0;
    size_t i;
    for (round = 0; round < rounds; round++) {
        size_t size;
        for (i = 0; i < sizeof in; i++) {
            rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407u;
            in[i] = (uint8_t)(rng >> 56);
        }
        if (round % 3 == 0)
            memcpy(in, seed, sizeof seed);
        if (round % 3 == 1)
            in[0] = (uint8_t)((in[0] & ~7) | (round & 7));
        size = (size_t)(rng >> 40) % sizeof in;
        if (!inflate_raw(in, size, out, (size_t)(rng >> 30) % sizeof out, NULL, NULL))
            ok++;
    }
    CHECK(ok > 0);
    /* RFC 1951 §3.2.3: type 3 is reserved; §3.2.4: the length and its complement must agree */
    CHECK_EQ(inflate_raw((const uint8_t *)"\x07\x00", 2, out, 10, NULL, NULL), EMU_EFORMAT);
    CHECK_EQ(inflate_raw((const uint8_t *)"\x01\x01\x00\xff\xff" "a", 6, out, 10, NULL, NULL), EMU_EFORMAT);
    CHECK_EQ(inflate_raw((const uint8_t *)"\x01\x01\x00\xfe\xff" "a", 6, out, 10, NULL, NULL), 0);
    CHECK_EQ(out[0], 'a');
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");
    char cmd[300];
    machine.log_fn = keep_notice;
    machine.config.icount = true;
    machine.wake_write = HOST_FD_NONE;
    clock_create(&machine);
    snprintf(dir, sizeof dir, "%s/emu-block-%ld", tmp && *tmp ? tmp : "/tmp", host_pid());
    snprintf(cmd, sizeof cmd, "mkdir -p %s", dir);
    if (system(cmd))
        exit(1);
}
TEST(a_setup)
{
    if (!*dir)
        setup();
    CHECK(host_path_kind(dir) == HOST_KIND_DIR);
}
TEST(zz_cleanup)
{
    char cmd[300];
    int i;
    struct err err;
    for (i = 0; i < 8; i++)
        drive("", &err); /* lets go of the option lists */
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK(!system(cmd));
    clock_destroy(&machine);
}

TEST_MAIN(TEST_CASE(a_setup), TEST_CASE(request_completes_from_the_event_queue_at_a_fixed_time), TEST_CASE(read_only_drive_refuses_writes), TEST_CASE(snapshot_is_thrown_away),
          TEST_CASE(odd_size_is_padded_and_writable), TEST_CASE(guessed_raw_image_stays_raw), TEST_CASE(bad_drives_are_named), TEST_CASE(media_change_and_eject),
          TEST_CASE(embedded_disk_and_full_disk), TEST_CASE(failed_flush_is_not_made_good), TEST_CASE(cd_medium_is_opened_read_only),
          TEST_CASE(locked_tray_asks_the_guest), TEST_CASE(file_beyond_4_gib), TEST_CASE(inflate_decodes_what_gzip_makes), TEST_CASE(inflate_survives_anything), TEST_CASE(zz_cleanup))
