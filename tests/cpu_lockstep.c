/* cpu_lockstep.c - the optimised handlers against the plain-C instructions, in real guests: two machines boot the same image on instruction
 * time, one as always, the other with every instruction by its plain-C function (those that cpu_diff.c compares with hardware). After every
 * stretch of instructions all registers must be the same, now and then memory too.
 *
 * Needs the images of images/guests.sh and images/debian.sh in $EMU_IMAGES. LONG=1 goes on for many more instructions.
 */
#include "machine.h"
#include "cpu/cpu.h"
#include "cpu/uop.h"
#include "test.h"

enum { STRETCH = 250007, MEMORY_EVERY = 64 };

static bool readable(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f)
        fclose(f);
    return f != NULL;
}

static struct emu *boot(int count, const char *const *options, bool plain)
{
    char error[300] = "";
    struct emu *m = emu_new(NULL);
    if (m && emu_configure(m, count, options, error, sizeof error)) {
        printf("%s\n", error);
        emu_destroy(m);
        return NULL;
    }
    if (m)
        trace_set_plain(m, plain);
    return m;
}

/* 0, or what differs */
static const char *difference(struct emu *a, struct emu *b)
{
    struct cpu *x = a->cpus[0], *y = b->cpus[0];
    if (a->insn_total != b->insn_total || x->icount != y->icount)
        return "the number of instructions";
    if (x->rip != y->rip || x->seg[SEG_CS].base != y->seg[SEG_CS].base)
        return "RIP";
    if (memcmp(x->gpr, y->gpr, 16 * sizeof x->gpr[0]))
        return "a general register";
    if (cpu_eflags(x) != cpu_eflags(y))
        return "EFLAGS";
    if (memcmp(x->xmm, y->xmm, sizeof x->xmm) || x->mxcsr != y->mxcsr)
        return "SSE state";
    if (x->cr0 != y->cr0 || x->cr2 != y->cr2 || x->cr3 != y->cr3 || x->cr4 != y->cr4 || x->mode_key != y->mode_key)
        return "control state";
    if (x->x87_top != y->x87_top || x->x87_tags != y->x87_tags || x->x87_status != y->x87_status)
        return "x87 state";
    return NULL;
}

static void lockstep(int *test_failed, int count, const char *const *options, int64_t instructions)
{
    struct emu *m[2];
    int64_t done;
    unsigned n = 0;
    const char *what = NULL;
    m[0] = boot(count, options, false);
    m[1] = boot(count, options, true);
    CHECK(m[0] && m[1]);
    for (done = 0; m[0] && m[1] && done < instructions && !what; done += STRETCH) {
        int k;
        for (k = 0; k < 2; k++) {
            struct emu_limits limits = { -1, STRETCH, 1 };
            struct emu_result result;
            CHECK_EQ(emu_run(m[k], &limits, &result), 0);
            CHECK_EQ(result.reason, EMU_REASON_INSNS);
            if (result.reason != EMU_REASON_INSNS)
                goto out;
        }
        what = difference(m[0], m[1]);
        if (!what && ++n % MEMORY_EVERY == 0 && emu_memory_hash(m[0]) != emu_memory_hash(m[1]))
            what = "memory";
    }
out:
    if (what) {
        printf("after %" PRId64 " instructions %s differs: rip %" PRIx64 " and %" PRIx64 "\n", done, what, m[0]->cpus[0]->rip, m[1]->cpus[0]->rip);
        *test_failed = 1;
    }
    emu_destroy(m[0]);
    emu_destroy(m[1]);
}

#define COMMON "-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm", "-seed", "7", "-net", "none", "-serial", "null"

TEST(firmware_grub_and_debian_run_alike)
{
    static char drive[400];
    const char *dir = getenv("EMU_IMAGES") ? getenv("EMU_IMAGES") : "/var/tmp/emu-images";
    const char *options[] = { "-m", "256M", COMMON, "-snapshot", "-drive", drive };
    snprintf(drive, sizeof drive, "%s/debian-t0.img", dir);
    if (!readable(drive))
        SKIP("there is no debian-t0.img (images/debian.sh makes it)");
    snprintf(drive, sizeof drive, "file=%s/debian-t0.img,format=raw,index=0,media=disk", dir);
    lockstep(test_failed, (int)EMU_ARRAY_LEN(options), options, getenv("LONG") ? INT64_C(15000000000) : INT64_C(400000000));
}

TEST(a_linux_kernel_runs_alike)
{
    static char kernel[400], initrd[400];
    const char *dir = getenv("EMU_IMAGES") ? getenv("EMU_IMAGES") : "/var/tmp/emu-images";
    const char *options[] = { "-m", "128M", COMMON, "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0" };
    snprintf(kernel, sizeof kernel, "%s/bzImage", dir);
    snprintf(initrd, sizeof initrd, "%s/initramfs.cpio.gz", dir);
    if (!readable(kernel) || !readable(initrd))
        SKIP("there is no Linux kernel (images/guests.sh makes it)");
    lockstep(test_failed, (int)EMU_ARRAY_LEN(options), options, getenv("LONG") ? INT64_C(10000000000) : INT64_C(200000000));
}

TEST_MAIN(TEST_CASE(firmware_grub_and_debian_run_alike), TEST_CASE(a_linux_kernel_runs_alike))
