/* front/main.c - the emu program: one machine on this process's terminal.
 *
 * Contract   Left out with -DEMU_NO_MAIN. Exit status: 0 after the guest's power-off and after quit, 1 for a line that makes no sense or a
 *            machine that can't be built, else what isa-debug-exit gave.
 */
#include "../machine.h"
#include "front.h"

#ifndef EMU_NO_MAIN
/* The machine that signals end: the one mutable object at file scope, since a signal handler has no argument. Library builds have none. */
static struct emu *volatile main_machine;

static void main_signal(int kind)
{
    struct emu *e = main_machine;
    if (e && kind == 1)
        emu_request_outside(e, OUTSIDE_EXIT);
}

static int main_write_pid(struct emu *e, struct err *err)
{
    char text[32];
    int n;
    if (!front_of(e)->pidfile)
        return 0;
    n = snprintf(text, sizeof text, "%ld\n", host_pid());
    if (host_file_save(front_of(e)->pidfile, text, (size_t)n, err))
        return err_prefix(err, EMU_EIO, "-pidfile %s", front_of(e)->pidfile);
    return 0;
}

int main(int argc, char **argv)
{
    struct emu *e = emu_new(NULL);
    struct emu_result result;
    struct err err;
    int r, status;
    err.text[0] = 0;
    if (!e) {
        fprintf(stderr, "emu: out of memory\n");
        return 1;
    }
    front_of(e)->program = true;
    r = front_configure(e, argc - 1, (const char *const *)argv + 1, &err);
    if (!r && front_of(e)->daemonize)
        r = host_daemonize(&err);
    if (!r)
        r = main_write_pid(e, &err);
    if (!r && front_of(e)->daemonize)
        r = host_daemonize_done(&err);
    if (r) {
        emu_destroy(e);
        if (r < 0)
            fprintf(stderr, "emu: %s\n", err.text[0] ? err.text : emu_strerror(r));
        return r < 0;
    }
    main_machine = e;
    host_on_signals(main_signal);
    do
        emu_run(e, NULL, &result);
    while (result.reason != EMU_REASON_EXIT);
    main_machine = NULL;
    status = result.exit_status;
    if (front_of(e)->pidfile)
        host_path_remove(front_of(e)->pidfile);
    emu_destroy(e);
    return status;
}
#endif
