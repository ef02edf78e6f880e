/* chardev_stdio - the emu program ($EMU) on a terminal of its own, and on pipes: Ctrl-A commands, monitor, end of input, back to what was. */
#include "../src/machine.h"
#include "test.h"

#ifndef EMU_HOST_POSIX
int main(void)
{
    printf("skip chardev_stdio: no POSIX host\n0 passed, 0 failed\n");
    return 0;
}
#else
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static host_fd master, slave;
static struct termios cooked;
static pid_t child;
static char seen[1 << 16];
static size_t seen_size;
static const char *emu_path(void)
{
    const char *p = getenv("EMU");
    return p && *p ? p : "./emu";
}

/* Starts emu on a new terminal with a shell's settings. */
static bool start(const char *const *argv)
{
    char name[100];
    struct err err;
    seen_size = 0;
    if (host_open_pty(&master, &slave, name, sizeof name, &err))
        return false;
    tcgetattr((int)slave, &cooked);
    cooked.c_lflag |= ICANON | ECHO | ISIG;
    cooked.c_iflag |= ICRNL | IXON;
    cooked.c_oflag |= OPOST;
    tcsetattr((int)slave, TCSANOW, &cooked);
    tcgetattr((int)slave, &cooked);
    child = fork();
    if (child == 0) {
        setsid();
        dup2((int)slave, 0);
        dup2((int)slave, 1);
        dup2((int)slave, 2);
        execv(emu_path(), (char *const *)(uintptr_t)argv);
        _exit(99);
    }
    return child > 0;
}
/* Waits until the text comes; what came before it is dropped. */
static bool expect(const char *text)
{
    int64_t end = host_clock_ns() + 60 * NS_PER_SEC;
    while (host_clock_ns() < end) {
        struct host_poll_item item;
        char *at;
        int n;
        seen[seen_size] = 0;
        at = strstr(seen, text);
        if (at) {
            seen_size -= (size_t)(at + strlen(text) - seen);
            memmove(seen, at + strlen(text), seen_size);
            return true;
        }
        item.fd = master;
        item.want = HOST_READ;
        if (host_poll(&item, 1, NS_PER_SEC / 10) > 0) {
            if (seen_size > sizeof seen / 2)
                seen_size = 0;
            n = host_fd_read(master, seen + seen_size, sizeof seen - 1 - seen_size);
            if (n > 0)
                seen_size += (size_t)n;
        }
    }
    seen[seen_size] = 0;
    printf("waited for \"%s\", saw \"%s\"\n", text, seen);
    return false;
}
static void type(const char *text) { host_fd_write(master, text, strlen(text)); }

/* Exit status, or -signal; -100 if it does not end. */
static int ended(void)
{
    int status, i;
    for (i = 0; i < 6000; i++) {
        char drop[4096];
        pid_t p = waitpid(child, &status, WNOHANG);
        if (p == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        host_fd_read(master, drop, sizeof drop);
        usleep(10000);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -100;
}
static bool terminal_as_before(void)
{
    struct termios now;
    bool same = !tcgetattr((int)slave, &now) && now.c_lflag == cooked.c_lflag && now.c_iflag == cooked.c_iflag && now.c_oflag == cooked.c_oflag;
    host_fd_close(master);
    host_fd_close(slave);
    return same;
}
static const char *const plain[] = { "emu", "-nographic", "-m", "16M", NULL };

TEST(escape_commands_work_on_the_terminal)
{
    struct termios now;
    CHECK(start(plain));
    CHECK(expect("no bootable device"));
    tcgetattr((int)slave, &now);
    CHECK(!(now.c_lflag & (ICANON | ECHO | ISIG)));
    type("\1h");
    CHECK(expect("to the monitor and back"));
    type("\1c");
    CHECK(expect("(emu) "));
    type("info status\r");
    CHECK(expect("running"));
    type("\1c\1c");
    CHECK(expect("(emu) "));
    type("\3"); /* Ctrl-C ends nothing */
    type("\rinfo version\r");
    CHECK(expect(EMU_VERSION));
    type("\1x");
    CHECK_EQ(ended(), 0);
    CHECK(terminal_as_before());
}
TEST(quit_and_echr)
{
    static const char *const argv[] = { "emu", "-nographic", "-m", "16M", "-echr", "0x14", NULL };
    CHECK(start(argv));
    CHECK(expect("no bootable device"));
    type("\24c");
    CHECK(expect("(emu) "));
    type("quit\r");
    CHECK_EQ(ended(), 0);
    CHECK(terminal_as_before());
}
TEST(signals_end_it_cleanly)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(signals); i++) {
        CHECK(start(plain));
        CHECK(expect("no bootable device"));
        kill(child, signals[i]);
        CHECK_EQ(ended(), 0);
        CHECK(terminal_as_before());
    }
}
TEST(serial_stdio_alone_obeys_ctrl_c)
{
    static const char *const argv[] = { "emu", "-m", "16M", "-display", "none", "-serial", "stdio", NULL };
    struct termios now;
    CHECK(start(argv));
    CHECK(expect("no bootable device"));
    tcgetattr((int)slave, &now);
    CHECK((now.c_lflag & ISIG) && !(now.c_lflag & ECHO));
    kill(child, SIGINT);
    CHECK_EQ(ended(), 0);
    CHECK(terminal_as_before());
}

/* Output of a shell command; %s is emu. */
static bool output_of(const char *cmd, char *out, size_t size, int *status)
{
    FILE *f;
    char line[1000];
    size_t n;
    const char *at = strstr(cmd, "%s");
    snprintf(line, sizeof line, "%.*s%s%s", (int)(at - cmd), cmd, emu_path(), at + 2);
    fflush(stdout);
    f = popen(line, "r");
    if (!f)
        return false;
    n = fread(out, 1, size - 1, f);
    out[n] = 0;
    *status = pclose(f);
    return true;
}
TEST(monitor_commands_from_a_pipe)
{
    static char out[20000];
    int status;
    CHECK(output_of("printf 'info status\\nquit\\n' | timeout 60 %s -nodefaults -m 16M -display none -monitor stdio 2>&1", out, sizeof out, &status));
    CHECK_EQ(status, 0);
    CHECK(strstr(out, "running"));
}
TEST(no_input_is_no_reason_to_end)
{
    static char out[20000];
    int status;
    static const char *const inputs[] = { "</dev/null", "<&-" };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(inputs); i++) {
        char cmd[500];
        snprintf(cmd, sizeof cmd,
                 "f=${TMPDIR:-/tmp}/emu-input-$$; timeout 60 %%s -nographic -m 16M >$f 2>&1 %s & p=$!; i=0; "
                 "while ! grep -q 'no bootable device' $f 2>/dev/null && [ $i -lt 400 ]; do sleep 0.1; i=$((i+1)); done; sleep 1; cat $f; kill $p && echo it ran; wait $p; rm -f $f",
                 inputs[i]);
        CHECK(output_of(cmd, out, sizeof out, &status));
        CHECK(strstr(out, "no bootable device"));
        CHECK(strstr(out, "it ran"));
    }
}
TEST(serial_to_a_file_is_there_while_it_runs)
{
    static char out[20000];
    int status;
    CHECK(output_of("f=${TMPDIR:-/tmp}/emu-serial-$$; timeout 60 %s -display none -m 16M -serial file:$f -monitor none & p=$!; i=0; "
                    "while ! grep -q 'no bootable device' $f 2>/dev/null && [ $i -lt 400 ]; do sleep 0.1; i=$((i+1)); done; cat $f; kill $p; wait $p; rm -f $f",
                    out, sizeof out, &status));
    CHECK(strstr(out, "no bootable device"));
}
TEST(two_users_of_the_terminal_are_refused)
{
    static char out[20000];
    int status;
    CHECK(output_of("timeout 60 %s -m 16M -display none -serial stdio -monitor stdio 2>&1 </dev/null", out, sizeof out, &status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    CHECK(strstr(out, "mon:stdio"));
}
TEST(bad_disks_are_one_line_and_status_1)
{
    static const char *const rows[][2] = {
        { "/nonexistent.img", "/nonexistent.img" }, { "/tmp", "folder" }, { "-drive file=/dev/zero,format=qcow2", "qcow2" }, { "-drive file=/etc/passwd,format=vdi", "vdi" },
        { "-hda fat:rw:/tmp", "not supported yet" }, { "-cdrom /nonexistent.iso", "/nonexistent.iso" },
    };
    static char out[20000];
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(rows); i++) {
        char cmd[300];
        int status;
        snprintf(cmd, sizeof cmd, "timeout 60 %%s -nographic -m 16M %s 2>&1 </dev/null", rows[i][0]);
        CHECK(output_of(cmd, out, sizeof out, &status));
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 1 || !strstr(out, rows[i][1]) || strchr(out, '\n') != out + strlen(out) - 1)
            printf("%s: status %d, \"%s\"\n", rows[i][0], status, out), *test_failed = 1;
    }
}

TEST_MAIN(TEST_CASE(escape_commands_work_on_the_terminal), TEST_CASE(quit_and_echr), TEST_CASE(signals_end_it_cleanly), TEST_CASE(serial_stdio_alone_obeys_ctrl_c),
          TEST_CASE(monitor_commands_from_a_pipe), TEST_CASE(no_input_is_no_reason_to_end), TEST_CASE(serial_to_a_file_is_there_while_it_runs),
          TEST_CASE(two_users_of_the_terminal_are_refused), TEST_CASE(bad_disks_are_one_line_and_status_1))
#endif
