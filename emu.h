/* emu.h - a PC in one C file: public interface.
 *
 * MIT licence, see LICENSE. Compile emu.c with -DEMU_NO_MAIN and call these; nothing else is exported.
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

/* Why emu_run() returned. */
enum emu_reason {
    EMU_REASON_TIME = 1,    /* the host time asked for has passed */
    EMU_REASON_INSNS = 2,   /* the number of instructions asked for was run */
    EMU_REASON_IDLE = 3,    /* every CPU sleeps: wait for the next deadline or a descriptor */
    EMU_REASON_PAUSED = 4,  /* by the monitor, a debugger, or -S */
    EMU_REASON_EXIT = 5,    /* the machine is off; see exit_status */
    EMU_REASON_STOPPED = 6  /* emu_stop() was called */
};

/* A short English text for an emu_error; never NULL, never freed. */
const char *emu_strerror(int error);

#ifdef __cplusplus
}
#endif
#endif
