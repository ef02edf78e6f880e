/* host_posix - the calls of host.h on this system: clocks, memory, files, descriptors, sockets, terminal, processes. */
#include "../src/machine.h"
#include "test.h"

#ifndef EMU_HOST_POSIX
int main(void)
{
    printf("skip host_posix: no POSIX host\n0 passed, 0 failed\n");
    return 0;
}
#else
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char path[300];
static const char *file_name(void)
{
    const char *tmp = getenv("TMPDIR");
    if (!*path)
        snprintf(path, sizeof path, "%s/emu-host-%ld", tmp && *tmp ? tmp : "/tmp", host_pid());
    return path;
}
static int wait_ready(host_fd fd, unsigned want, int ms)
{
    struct host_poll_item item;
    item.fd = fd;
    item.want = (uint8_t)want;
    return host_poll(&item, 1, ms * NS_PER_MS) > 0 ? item.ready : 0;
}

TEST(clock_is_monotonic_and_wall_is_now)
{
    int64_t a = host_clock_ns(), b;
    struct host_poll_item none;
    CHECK(host_poll(&none, 0, 20 * NS_PER_MS) == 0);
    b = host_clock_ns();
    CHECK(b - a >= 20 * NS_PER_MS && b - a < 5 * NS_PER_SEC);
    CHECK(llabs(host_wall_ns() / NS_PER_SEC - (int64_t)time(NULL)) <= 1);
}
TEST(local_time_offset)
{
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    CHECK_EQ(host_local_offset_s(1700000000), 3600);  /* November */
    CHECK_EQ(host_local_offset_s(1690000000), 7200);  /* July */
    setenv("TZ", "UTC0", 1);
    tzset();
    CHECK_EQ(host_local_offset_s(1690000000), 0);
}
TEST(random_bytes_differ)
{
    uint8_t a[32], b[32];
    host_random(a, sizeof a);
    host_random(b, sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
}
TEST(memory_is_zero_and_discards_to_zero)
{
    size_t size = (size_t)1 << 30, i;
    uint8_t *p = host_map_memory(size);
    CHECK(p);
    CHECK(!p[0] && !p[size - 1]);
    memset(p + 5000, 0xFF, 40000);
    host_discard_memory(p + 6000, 30000);
    CHECK(p[5999] == 0xFF && p[36000] == 0xFF);
    for (i = 6000; i < 36000; i++)
        CHECK(!p[i]);
    host_unmap_memory(p, size);
}
TEST(file_reads_zeros_behind_its_end)
{
    struct host_file *f, *g;
    struct err err;
    uint8_t b[100];
    uint64_t start, end;
    CHECK(!host_file_open(&f, file_name(), HOST_OPEN_WRITE | HOST_OPEN_CREATE | HOST_OPEN_EXCLUSIVE, &err));
    CHECK_EQ(host_file_open(&g, file_name(), HOST_OPEN_WRITE | HOST_OPEN_CREATE | HOST_OPEN_EXCLUSIVE, &err), EMU_EEXIST);
    CHECK(!host_file_write(f, UINT64_C(5) << 30, "end", 3));
    CHECK_EQ(host_file_size(f), (INT64_C(5) << 30) + 3);
    memset(b, 1, sizeof b);
    CHECK(!host_file_read(f, UINT64_C(5) << 30, b, sizeof b));
    CHECK(!memcmp(b, "end", 3) && !b[3] && !b[99]);
    CHECK(!host_file_flush(f));
    if (!host_file_next_data(f, 0, &start, &end))
        CHECK(start > 0 && start <= UINT64_C(5) << 30 && end > start);
    CHECK_EQ(host_file_read(f, UINT64_MAX - 10, b, 50), EMU_ERANGE);
    CHECK_EQ(host_file_write(f, UINT64_MAX - 10, b, 50), EMU_ENOSPC);
    CHECK(!host_file_open(&g, file_name(), 0, &err));
    CHECK(host_file_same(f, g));
    CHECK_EQ(host_file_write(g, 0, "x", 1), EMU_EROFS);
    host_file_close(g);
    host_file_close(f);
    CHECK(!host_path_remove(file_name()));
    CHECK_EQ(host_file_open(&f, file_name(), 0, &err), EMU_ENOENT);
    CHECK(strstr(err.text, file_name()));
    CHECK_EQ(host_file_open(&f, "/", 0, &err), EMU_EINVAL);
}
#ifdef __linux__
static int sync_fails;
int fdatasync(int fd) /* before the C library's */
{
    if (!sync_fails)
        return fsync(fd);
    errno = sync_fails;
    return -1;
}
TEST(failed_flush_is_not_forgotten)
{
    struct host_file *f, *g;
    struct err err;
    CHECK(!host_file_open(&f, file_name(), HOST_OPEN_WRITE | HOST_OPEN_CREATE, &err));
    CHECK(!host_file_open(&g, file_name(), 0, &err));
    CHECK(!host_file_write(f, 0, "x", 1));
    sync_fails = EIO;
    CHECK_EQ(host_file_flush(f), EMU_EIO);
    sync_fails = 0; /* Linux says it once */
    CHECK_EQ(host_file_flush(f), EMU_EIO);
    CHECK(!host_file_write(f, 0, "y", 1));
    CHECK_EQ(host_file_flush(f), EMU_EIO);
    CHECK(!host_file_flush(g)); /* read only: wrote nothing */
    host_file_close(g);
    host_file_close(f);
    CHECK(!host_file_open(&f, file_name(), HOST_OPEN_WRITE, &err));
    CHECK(!host_file_flush(f));
    host_file_close(f);
    CHECK(!host_path_remove(file_name()));
}
#else
TEST(failed_flush_is_not_forgotten) { SKIP("replaces Linux's fdatasync()"); }
#endif
TEST(full_disk_says_so)
{
    host_fd fd;
    struct err err;
    if (host_path_kind("/dev/full") != HOST_KIND_CHAR) {
        printf("skip full_disk_says_so: no /dev/full\n");
        return;
    }
    CHECK(!host_open_stream(&fd, "/dev/full", true, false, &err));
    CHECK_EQ(host_fd_write(fd, "x", 1), EMU_ENOSPC);
    host_fd_close(fd);
}
TEST(load_and_save_whole_files)
{
    uint8_t *data;
    size_t size;
    struct err err;
    CHECK(!host_file_save(file_name(), "12345", 5, &err));
    CHECK(!host_file_load(file_name(), &data, &size, 5, &err));
    CHECK(size == 5 && !memcmp(data, "12345", 5));
    free(data);
    CHECK_EQ(host_file_load(file_name(), &data, &size, 4, &err), EMU_ERANGE);
    CHECK(!host_file_load("/proc/self/status", &data, &size, 100000, &err) || host_path_kind("/proc/self/status") == HOST_KIND_NONE);
    free(data);
    host_path_remove(file_name());
}
TEST(broken_pipe_raises_no_signal)
{
    int p[2];
    signal(SIGPIPE, SIG_DFL);
    CHECK(!pipe(p));
    close(p[0]);
    CHECK_EQ(host_fd_write(p[1], "x", 1), EMU_EPIPE);
    CHECK_EQ(host_fd_write(p[1], "x", 1), EMU_EPIPE);
    close(p[1]);
}
TEST(wake_ends_a_wait)
{
    host_fd r, w;
    CHECK(!host_wake_create(&r, &w));
    CHECK_EQ(wait_ready(r, HOST_READ, 0), 0);
    host_wake(w);
    host_wake(w);
    CHECK_EQ(wait_ready(r, HOST_READ, 1000), HOST_READ);
    host_wake_drain(r);
    CHECK_EQ(wait_ready(r, HOST_READ, 0), 0);
    host_fd_close(r);
    host_fd_close(w);
}
TEST(addresses_parse_and_print)
{
    static const struct {
        const char *text, *printed;
        int family;
    } rows[] = { { "127.0.0.1", "127.0.0.1:7", HOST_INET }, { "::1", "[::1]:7", HOST_INET6 }, { "[fec0::2]", "[fec0::2]:7", HOST_INET6 }, { "1.2.3", NULL, 0 }, { "", NULL, 0 },
                 { "localhost", NULL, 0 }, { "[127.0.0.1", NULL, 0 }, { "256.1.1.1", NULL, 0 } };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(rows); i++) {
        struct host_addr a;
        char text[80];
        bool ok = host_addr_parse(rows[i].text, &a);
        CHECK_EQ(ok, rows[i].printed != NULL);
        if (!ok)
            continue;
        CHECK_EQ(a.family, rows[i].family);
        a.port = 7;
        host_addr_format(&a, text, sizeof text);
        CHECK(!strcmp(text, rows[i].printed));
    }
}
TEST(tcp_connects_and_reports_refusal)
{
    struct host_addr a, b;
    host_fd listener, client, server;
    char buf[10];
    int r;
    CHECK(host_addr_parse("127.0.0.1", &a));
    CHECK(!host_socket(&listener, HOST_INET, HOST_STREAM) && !host_bind(listener, &a, true) && !host_listen(listener, 5) && !host_local_addr(listener, &a));
    CHECK(a.port);
    CHECK(!host_socket(&client, HOST_INET, HOST_STREAM));
    r = host_connect(client, &a);
    CHECK(r == 0 || r == EMU_EAGAIN);
    CHECK(wait_ready(client, HOST_WRITE, 1000) & HOST_WRITE);
    CHECK_EQ(host_socket_error(client), 0);
    CHECK(wait_ready(listener, HOST_READ, 1000));
    CHECK(!host_accept(listener, &server, &b));
    CHECK_EQ(host_fd_read(client, buf, sizeof buf), EMU_EAGAIN);
    host_fd_close(server);
    CHECK_EQ(host_accept(listener, &server, &b), EMU_EAGAIN);
    CHECK(!host_set_option(client, HOST_OPT_NODELAY, 1) && !host_set_option(client, HOST_OPT_TTL, 9) && !host_set_option(client, HOST_OPT_KEEPALIVE, 1));
    host_fd_close(listener);
    host_fd_close(client);
    CHECK(!host_socket(&client, HOST_INET, HOST_STREAM));
    r = host_connect(client, &a); /* nobody listens any more */
    if (r == EMU_EAGAIN) {
        wait_ready(client, HOST_WRITE, 1000);
        r = host_socket_error(client);
    }
    CHECK_EQ(r, EMU_ECONNREFUSED);
    host_fd_close(client);
}
TEST(resolver_list_has_a_stamp)
{
    struct host_addr a[4];
    int64_t stamp = 0, again = 1;
    int n = host_resolvers(a, 4, &stamp), i;
    CHECK(n >= 0 && n <= 4);
    host_resolvers(a, 4, &again);
    CHECK_EQ(stamp, again);
    for (i = 0; i < n; i++)
        CHECK_EQ(a[i].port, 53);
}
TEST(spawned_program_talks)
{
    static const char *const argv[] = { "cat", NULL }, *const missing[] = { "/nonexistent/program", NULL };
    host_fd fd;
    long pid;
    char b[20];
    int n, total = 0;
    struct err err;
    CHECK(!host_spawn(&fd, &pid, argv, &err));
    CHECK(pid > 0);
    CHECK_EQ(host_fd_write(fd, "hello", 5), 5);
    host_shutdown_write(fd);
    while (wait_ready(fd, HOST_READ, 2000) && (n = host_fd_read(fd, b + total, sizeof b - (size_t)total)) > 0)
        total += n;
    CHECK(total == 5 && !memcmp(b, "hello", 5));
    host_fd_close(fd);
    host_reap(pid);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), (uint64_t)-1); /* no child of ours is left behind */
    CHECK_EQ(host_spawn(&fd, &pid, missing, &err), EMU_ENOENT);
    CHECK(strstr(err.text, "/nonexistent/program"));
}

/* A child with its own terminal makes it raw and ends in one way or another; the settings must be those it found. */
static bool terminal_restored(int how)
{
    char name[100];
    host_fd master, slave;
    struct termios before, after;
    int status, ready[2];
    char byte;
    pid_t child;
    struct err err;
    if (host_open_pty(&master, &slave, name, sizeof name, &err) || pipe(ready))
        return false;
    tcgetattr((int)slave, &before); /* raw from host_open_pty: give it a shell's settings */
    before.c_lflag |= ICANON | ECHO | ISIG;
    before.c_iflag |= ICRNL;
    tcsetattr((int)slave, TCSANOW, &before);
    tcgetattr((int)slave, &before);
    child = fork();
    if (child == 0) {
        dup2((int)slave, 0);
        if (host_terminal_raw(true, false) || write(ready[1], "r", 1) != 1)
            _exit(9);
        switch (how) {
        case 0: exit(0);
        case 1: host_terminal_raw(false, false); _exit(0);
        case 2: raise(SIGTERM); break;
        case 3: raise(SIGSEGV); break;
        case 4: raise(SIGINT); break;
        case 5: abort();
        case 6: raise(SIGHUP); break;
        default: break;
        }
        _exit(8);
    }
    if (read(ready[0], &byte, 1) != 1)
        return false;
    waitpid(child, &status, 0);
    tcgetattr((int)slave, &after);
    host_fd_close(master);
    host_fd_close(slave);
    close(ready[0]);
    close(ready[1]);
    if (how < 2 ? !WIFEXITED(status) || WEXITSTATUS(status) : !WIFSIGNALED(status))
        return false;
    return before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag && before.c_oflag == after.c_oflag;
}
TEST(terminal_is_restored_on_every_exit)
{
    int how;
    struct sigaction segv;
    bool others = !sigaction(SIGSEGV, NULL, &segv) && segv.sa_handler != SIG_DFL; /* a sanitizer's */
    for (how = 0; how <= 6; how++)
        if ((how != 3 || !others) && !terminal_restored(how))
            printf("way %d\n", how), *test_failed = 1;
}

/* Stopped, the shell takes its settings back; continued, the terminal is raw again (as under job control, or after kill -STOP). */
TEST(terminal_is_raw_again_after_a_stop)
{
    char name[100];
    host_fd master, slave;
    struct termios raw, cooked, after;
    struct timespec pause_10_ms = { 0, 10000000 };
    int status, ready[2], n;
    char byte;
    pid_t child;
    struct err err;
    CHECK(!host_open_pty(&master, &slave, name, sizeof name, &err) && !pipe(ready));
    tcgetattr((int)slave, &cooked);
    cooked.c_lflag |= ICANON | ECHO | ISIG;
    tcsetattr((int)slave, TCSANOW, &cooked);
    child = fork();
    if (child == 0) {
        dup2((int)slave, 0);
        if (host_terminal_raw(true, false) || write(ready[1], "r", 1) != 1)
            _exit(9);
        for (;;)
            pause();
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    tcgetattr((int)slave, &raw);
    CHECK_EQ(raw.c_lflag & (tcflag_t)(ICANON | ECHO), 0);
    kill(child, SIGSTOP);
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    tcsetattr((int)slave, TCSANOW, &cooked);
    kill(child, SIGCONT);
    for (n = 0; n < 1000; n++) {
        tcgetattr((int)slave, &after);
        if (after.c_lflag == raw.c_lflag)
            break;
        nanosleep(&pause_10_ms, NULL);
    }
    CHECK_EQ(after.c_lflag, raw.c_lflag);
    kill(child, SIGTERM);
    CHECK_EQ(waitpid(child, &status, 0), child);
    tcgetattr((int)slave, &after);
    CHECK_EQ(after.c_lflag, cooked.c_lflag);
    host_fd_close(master);
    host_fd_close(slave);
    close(ready[0]);
    close(ready[1]);
}

TEST_MAIN(TEST_CASE(clock_is_monotonic_and_wall_is_now), TEST_CASE(local_time_offset), TEST_CASE(random_bytes_differ), TEST_CASE(memory_is_zero_and_discards_to_zero),
          TEST_CASE(file_reads_zeros_behind_its_end), TEST_CASE(failed_flush_is_not_forgotten), TEST_CASE(full_disk_says_so), TEST_CASE(load_and_save_whole_files), TEST_CASE(broken_pipe_raises_no_signal),
          TEST_CASE(wake_ends_a_wait), TEST_CASE(addresses_parse_and_print), TEST_CASE(tcp_connects_and_reports_refusal), TEST_CASE(resolver_list_has_a_stamp),
          TEST_CASE(spawned_program_talks), TEST_CASE(terminal_is_restored_on_every_exit), TEST_CASE(terminal_is_raw_again_after_a_stop))
#endif
