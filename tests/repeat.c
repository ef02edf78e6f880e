/* repeat.c - -icount runs repeat bit for bit: a Linux kernel from images/guests.sh runs a fixed number of instructions, twice, with the
 * second run cut into odd pieces; serial output, virtual time and memory must be the same. */
#include "../emu.h"
#include "test.h"

struct run {
    char *text;
    size_t size, room;
    uint64_t hash, instructions;
    int64_t now_ns;
};

static void output(void *opaque, const void *bytes, size_t count)
{
    struct run *r = (struct run *)opaque;
    if (count > r->room - r->size)
        count = r->room - r->size;
    memcpy(r->text + r->size, bytes, count);
    r->size += count;
}

static int run_kernel(struct run *r, int64_t instructions, int64_t piece)
{
    static char kernel[300], initrd[300];
    const char *dir = getenv("EMU_IMAGES") ? getenv("EMU_IMAGES") : "/var/tmp/emu-images";
    const char *options[] = { "-m", "128M", "-icount", "shift=1,sleep=off", "-rtc", "base=2026-01-01,clock=vm", "-seed", "7", "-net", "none",
        "-serial", "embed:console", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0" };
    char error[300] = "";
    struct emu *m;
    struct emu_result result;
    FILE *f;
    int64_t left = instructions;
    snprintf(kernel, sizeof kernel, "%s/bzImage", dir);
    snprintf(initrd, sizeof initrd, "%s/initramfs.cpio.gz", dir);
    f = fopen(kernel, "rb");
    if (!f)
        return 1;
    fclose(f);
    m = emu_new(NULL);
    r->room = 1 << 20;
    r->size = 0;
    r->text = (char *)malloc(r->room);
    if (!m || !r->text || emu_provide_serial(m, "console", output, r) || emu_configure(m, (int)(sizeof options / sizeof options[0]), options, error, sizeof error)) {
        printf("%s\n", error);
        emu_destroy(m);
        return -1;
    }
    while (left > 0) {
        struct emu_limits limits = { -1, 0, 1 };
        limits.instructions = piece && piece < left ? piece : left;
        if (emu_run(m, &limits, &result) || result.reason != EMU_REASON_INSNS) {
            emu_destroy(m);
            return -1;
        }
        left -= limits.instructions;
    }
    r->hash = emu_memory_hash(m);
    r->instructions = result.instructions;
    r->now_ns = result.now_ns;
    emu_destroy(m);
    return 0;
}

TEST(instruction_count_runs_repeat)
{
    static struct run a, b;
    int64_t instructions = getenv("LONG") ? INT64_C(8000000000) : INT64_C(4800000000); /* the kernel unpacks itself in about 4.5e9 */
    int r = run_kernel(&a, instructions, 0);
    if (r > 0)
        SKIP("there is no Linux kernel (images/guests.sh makes it)");
    CHECK_EQ(r, 0);
    CHECK(a.size > 100); /* the kernel said something */
    CHECK_EQ(run_kernel(&b, instructions, 7654321), 0);
    CHECK_EQ(a.instructions, instructions);
    CHECK_EQ(b.instructions, a.instructions);
    CHECK_EQ(b.now_ns, a.now_ns);
    CHECK_EQ(b.size, a.size);
    CHECK(!memcmp(a.text, b.text, a.size));
    CHECK_EQ(b.hash, a.hash);
    free(a.text);
    free(b.text);
}

TEST_MAIN(TEST_CASE(instruction_count_runs_repeat))
