/* emu.h - a PC in one C file: public interface.
 *
 * Compile emu.c with -DEMU_NO_MAIN and call these; no other symbol is exported. C99 or C++. MIT licence, see LICENSE.
 *
 *     struct emu *m = emu_new(NULL);
 *     const char *options[] = { "-m", "256M", "-serial", "embed:console", "disk.img" };
 *     emu_provide_serial(m, "console", my_console_output, me);
 *     if (emu_configure(m, 5, options, error, sizeof error) == 0)
 *         while (emu_run(m, &limits, &result) == 0 && result.reason != EMU_REASON_EXIT)
 *             wait_for(&result);
 *     emu_destroy(m);
 *
 * Threads: each machine belongs to one thread at a time; only emu_stop() may come from another thread or a signal handler. Two
 * machines in a process know nothing of each other. Callbacks run inside emu_run() and may call anything but emu_run() and
 * emu_destroy(); emu_reset() inside a callback takes effect when the instruction that led to it is over.
 */
#ifndef EMU_H
#define EMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMU_VERSION_MAJOR 0
#define EMU_VERSION_MINOR 1
#define EMU_VERSION_PATCH 0
#define EMU_VERSION "0.1.0"

struct emu;

/* Errors: every function that can fail returns 0 (or a count) or one of these. */
enum emu_error {
    EMU_OK = 0,
    EMU_EINVAL = -1,  /* an argument or option makes no sense */
    EMU_ENOMEM = -2,
    EMU_EIO = -3,     /* the host could not read or write */
    EMU_ENOENT = -4,
    EMU_EACCES = -5,
    EMU_EBUSY = -6,   /* in use by somebody else (image lock, port) */
    EMU_ENOSPC = -7,
    EMU_EROFS = -8,
    EMU_ENOTSUP = -9, /* known, but not on this host or not yet */
    EMU_EFORMAT = -10, /* damaged or unknown image format */
    EMU_ERANGE = -11,
    EMU_EAGAIN = -12,
    EMU_EPIPE = -13,
    EMU_EEXIST = -14,
    EMU_ECONNREFUSED = -15,
    EMU_EUNREACH = -16,
    EMU_ETIMEDOUT = -17,
    EMU_ECONNRESET = -18,
    EMU_EMSGSIZE = -19,
    EMU_EFAULT = -20, /* guest address not mapped */
    EMU_EADDRINUSE = -21
};

/* A short English text for an emu_error; never NULL, never freed. */
const char *emu_strerror(int error);

/* Why emu_run() returned. */
enum emu_reason {
    EMU_REASON_TIME = 1,    /* the host time asked for has passed */
    EMU_REASON_INSNS = 2,   /* the number of instructions asked for was run */
    EMU_REASON_IDLE = 3,    /* every CPU sleeps: wait for the next deadline or a descriptor */
    EMU_REASON_PAUSED = 4,  /* by the monitor, a debugger, or -S */
    EMU_REASON_EXIT = 5,    /* the machine is off; see exit_status */
    EMU_REASON_STOPPED = 6  /* emu_stop() was called */
};

/* ---- life ---- */

/* What the host program may take over. Any member may be NULL; the struct is copied. */
struct emu_hooks {
    void *opaque;                                              /* first argument of each */
    void (*log)(void *opaque, const char *line);               /* one line without newline; default: stderr */
    void *(*allocate)(void *opaque, void *old, size_t bytes);  /* realloc's contract; bytes 0 frees; default: libc. Guest RAM is not from here. */
};

/* A machine without parts yet. hooks may be NULL. NULL when there is no memory. Freed by emu_destroy(). */
struct emu *emu_new(const struct emu_hooks *hooks);

/* Builds the machine that the command line describes (argv[0] is the first option, not a program name) and resets it. Strings are copied. Options that
 * name a provided disk, serial line or network use "embed:NAME": -serial embed:NAME, -drive file=embed:NAME, -netdev embed,id=n0,name=NAME.
 * Without -serial, -monitor and -nographic nothing is attached to the process's terminal. On failure: EMU_E..., and one line in
 * error (error may be NULL). To be called once. */
int emu_configure(struct emu *machine, int argc, const char *const *argv, char *error, size_t error_size);

/* Flushes disks, closes everything, frees the machine. NULL is allowed. Not from a callback. */
void emu_destroy(struct emu *machine);

/* ---- running ---- */

struct emu_limits {
    int64_t host_ns;      /* return after this much host time; negative: no limit */
    int64_t instructions; /* return after exactly this many; negative: no limit */
    int may_block;        /* nonzero: sleep inside while the guest is idle; 0: return EMU_REASON_IDLE */
};

enum { EMU_WANT_READ = 1, EMU_WANT_WRITE = 2 };
struct emu_wait {
    intptr_t fd; /* file descriptor, or SOCKET on Windows */
    int events;  /* EMU_WANT_... */
};

struct emu_result {
    int reason;                /* enum emu_reason */
    int exit_status;           /* EMU_REASON_EXIT: what the emu program would exit with */
    uint64_t instructions;     /* retired by all CPUs since power-on */
    int64_t now_ns;            /* virtual time */
    int64_t next_deadline_ns;  /* EMU_REASON_IDLE: host nanoseconds until emu_run() should be called again; INT64_MAX: no timer */
    const struct emu_wait *waits; /* or when one of these is ready; owned by the machine, valid until the next call */
    size_t wait_count;
};

/* Runs the machine. limits NULL: no limit, may block. 0, or EMU_EINVAL if it was never configured. */
int emu_run(struct emu *machine, const struct emu_limits *limits, struct emu_result *result);
/* Makes a running emu_run() return soon with EMU_REASON_STOPPED. Any thread, signal handlers. */
void emu_stop(struct emu *machine);
void emu_reset(struct emu *machine);        /* as the reset button */
void emu_power_button(struct emu *machine); /* the guest is told by ACPI and may shut down */
int emu_pause(struct emu *machine);
int emu_resume(struct emu *machine);

/* ---- memory, registers ---- */

/* Guest-physical memory; device registers are read and written too. 0 or EMU_EINVAL. */
int emu_read_memory(struct emu *machine, uint64_t guest_physical, void *buffer, size_t bytes);
int emu_write_memory(struct emu *machine, uint64_t guest_physical, const void *buffer, size_t bytes);
/* The same by linear address through CPU `cpu`'s page tables; EMU_EFAULT where nothing is mapped. */
int emu_read_virtual(struct emu *machine, unsigned cpu, uint64_t linear, void *buffer, size_t bytes);
int emu_write_virtual(struct emu *machine, unsigned cpu, uint64_t linear, const void *buffer, size_t bytes);
/* Registers by their usual name in lower case: rax..r15, rip, rflags, cs, ds, es, fs, gs, ss (selectors), fs_base, gs_base, cr0, cr2, cr3, cr4,
 * cr8, efer, dr0..dr7. EMU_ENOENT for other names. A selector can be written in real mode only (EMU_EINVAL else). */
int emu_read_register(struct emu *machine, unsigned cpu, const char *name, uint64_t *value);
int emu_write_register(struct emu *machine, unsigned cpu, const char *name, uint64_t value);
unsigned emu_cpu_count(const struct emu *machine);
/* FNV-1a over guest RAM: equal for equal contents. */
uint64_t emu_memory_hash(struct emu *machine);

/* ---- the host program's own disks, serial lines, network, screen and keys ---- */

struct emu_disk_ops {
    uint64_t bytes;   /* size, multiple of 512 */
    int read_only;
    int (*read)(void *opaque, uint64_t offset, void *buffer, size_t bytes);        /* 0 or EMU_E... */
    int (*write)(void *opaque, uint64_t offset, const void *buffer, size_t bytes); /* may be NULL if read_only */
    int (*flush)(void *opaque);                                                    /* may be NULL */
};
/* Before emu_configure(). The struct is copied. */
int emu_provide_disk(struct emu *machine, const char *name, const struct emu_disk_ops *ops, void *opaque);
/* output is called with what the guest sends, as it sends it. */
int emu_provide_serial(struct emu *machine, const char *name, void (*output)(void *opaque, const void *bytes, size_t count), void *opaque);
/* Bytes toward the guest; how many were taken now (the rest is to be offered again later), or EMU_ENOENT. */
int emu_serial_input(struct emu *machine, const char *name, const void *bytes, size_t count);
/* frame is called with each Ethernet frame that the guest sends (no FCS). */
int emu_provide_net(struct emu *machine, const char *name, void (*frame)(void *opaque, const void *bytes, size_t count), void *opaque);
/* A frame toward the guest: 1 taken, 0 the guest has no buffer now, or EMU_E.... */
int emu_net_input(struct emu *machine, const char *name, const void *frame, size_t bytes);

struct emu_screen {
    const uint32_t *pixels; /* 0x00RRGGBB, host order; owned by the machine, valid until the next call */
    int width, height, stride_pixels;
};
/* The picture as it is now. EMU_ENOENT without a display device. */
int emu_get_screen(struct emu *machine, struct emu_screen *screen);
/* Grows when the picture may have changed. */
uint64_t emu_screen_changes(struct emu *machine);
/* Key by its name in QEMU's monitor ("a", "ret", "ctrl", "f1"). 0 or EMU_ENOENT. */
int emu_send_key(struct emu *machine, const char *name, int down);
void emu_send_mouse(struct emu *machine, int dx, int dy, int wheel, unsigned buttons);
/* A line of the monitor's language; its answer in reply (cut to reply_size, always terminated). 0 or EMU_E.... */
int emu_monitor(struct emu *machine, const char *line, char *reply, size_t reply_size);

#ifdef __cplusplus
}
#endif
#endif
