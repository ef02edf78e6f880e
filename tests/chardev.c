/* chardev - character back ends: what is written arrives, what is slow slows down, what goes away harms nobody.
 *
 * The far sides are the host's own sockets, files and terminals. The test turns the watches itself as the run loop does.
 */
#include "../src/machine.h"
#include "../src/front/front.h"
#include "test.h"
#ifndef _WIN32
#include <sys/resource.h>
#include <unistd.h>
#endif

static struct emu machine;
static struct front front;
static char dir[200], last_notice[500];
static unsigned notices;

static void keep_notice(void *opaque, unsigned mask, const char *text)
{
    (void)opaque, (void)mask;
    snprintf(last_notice, sizeof last_notice, "%s", text);
    notices++;
}

/* A user of a line: collects what it gets, with a limit on how much it takes. */
struct user {
    struct chr *chr;
    uint8_t bytes[1 << 21];
    size_t count, room; /* room: how much more it takes before somebody raises it */
    int opened, closed, breaks, writable;
    const uint8_t *send; /* to be sent, also from writable() */
    size_t send_size, sent;
};
static struct user users[6];

static size_t user_can_receive(void *opaque)
{
    struct user *u = opaque;
    return EMU_MIN(u->room, sizeof u->bytes - u->count);
}
static void user_receive(void *opaque, const uint8_t *buf, size_t size)
{
    struct user *u = opaque;
    if (size > u->room)
        printf("more than it had room for\n"), abort();
    memcpy(u->bytes + u->count, buf, size);
    u->count += size;
    u->room -= size;
}
static void user_event(void *opaque, enum chr_event event)
{
    struct user *u = opaque;
    if (event == CHR_OPENED)
        u->opened++;
    else if (event == CHR_CLOSED)
        u->closed++;
    else
        u->breaks++;
}
static void user_push(struct user *u)
{
    while (u->sent < u->send_size) {
        int n = chr_write(u->chr, u->send + u->sent, EMU_MIN(u->send_size - u->sent, (size_t)1000));
        if (n <= 0)
            return;
        u->sent += (size_t)n;
    }
}
static void user_writable(void *opaque)
{
    struct user *u = opaque;
    u->writable++;
    user_push(u);
}
static struct user *use(unsigned i, struct chr *c)
{
    struct user *u = &users[i];
    memset(u, 0, sizeof *u);
    u->chr = c;
    u->room = SIZE_MAX;
    if (!c)
        return NULL;
    c->can_receive = user_can_receive;
    c->receive = user_receive;
    c->event = user_event;
    c->writable = user_writable;
    c->opaque = u;
    c->in_use = true;
    chr_accept_input(c);
    return u;
}
static struct chr *open_line(const char *id, const char *spec)
{
    struct err err;
    struct chr *c;
    err.text[0] = 0;
    c = chr_open(&machine, id, spec, &err);
    if (!c)
        printf("%s: %s\n", spec, err.text);
    return c;
}
static struct chr *create_line(const char *id, const char *text, struct err *err)
{
    struct options o;
    struct chr *c = NULL;
    err->text[0] = 0;
    if (!options_parse(&o, &machine, "-chardev", text, "backend", err))
        c = chr_create(&machine, id, &o, err);
    options_free(&o);
    return c;
}

/* One round of the run loop. */
static void turn(int64_t timeout_ns)
{
    struct host_poll_item items[64];
    struct watch *watches[64], *w;
    struct poll_hook *h, *next;
    size_t n = 0, i;
    for (w = machine.watches; w && n < 64; w = w->next)
        if (w->want) {
            items[n].fd = w->fd;
            items[n].want = w->want;
            watches[n++] = w;
        }
    host_poll(items, n, timeout_ns);
    for (i = 0; i < n; i++) {
        for (w = machine.watches; w && w != watches[i]; w = w->next) /* still there? */
            ;
        if (w && items[i].ready)
            w->ready(w->opaque, items[i].ready);
    }
    clock_run_timers(&machine);
    for (h = machine.poll_hooks; h; h = next) {
        next = h->next;
        h->fn(h->opaque);
    }
}
static void turns(int ms)
{
    int64_t end = host_clock_ns() + ms * NS_PER_MS;
    do
        turn(2 * NS_PER_MS);
    while (host_clock_ns() < end);
}
#define WAIT_FOR(cond)                                                                                                 \
    do {                                                                                                               \
        int64_t wait_end = host_clock_ns() + 30 * NS_PER_SEC;                                                          \
        while (!(cond) && host_clock_ns() < wait_end)                                                                  \
            turn(5 * NS_PER_MS);                                                                                       \
        CHECK(cond);                                                                                                   \
    } while (0)

static unsigned port_of(const struct chr *c)
{
    const char *p = strchr(c->where, ',');
    const char *colon = c->where, *q;
    for (q = c->where; *q && q != p; q++)
        if (*q == ':')
            colon = q;
    return (unsigned)strtoul(colon + 1, NULL, 10);
}
static uint8_t pattern[1 << 20];
static void close_all(void)
{
    chr_close_all(&machine);
    machine.watches = NULL;
}

/* ---- tests ---- */

TEST(file_gets_every_byte_and_promptly)
{
    char spec[300];
    uint8_t *data;
    size_t size;
    struct user *u;
    snprintf(spec, sizeof spec, "file:%s/out,with,commas", dir);
    u = use(0, open_line("s0", spec));
    CHECK(u);
    CHECK_EQ(chr_write(u->chr, "x", 1), 1); /* alone: written at once */
    CHECK(!host_file_load(spec + 5, &data, &size, 1 << 22, NULL));
    CHECK_EQ(size, 1);
    free(data);
    u->send = pattern;
    u->send_size = sizeof pattern;
    user_push(u);
    WAIT_FOR(u->sent == u->send_size);
    close_all();
    CHECK(!host_file_load(spec + 5, &data, &size, 1 << 22, NULL));
    CHECK_EQ(size, sizeof pattern + 1);
    CHECK(!memcmp(data + 1, pattern, sizeof pattern));
    free(data);
}

TEST(tcp_both_ways_with_a_slow_reader)
{
    char spec[100];
    struct user *a, *b;
    a = use(0, open_line("server", "tcp:127.0.0.1:0,server=on,wait=off"));
    CHECK(a);
    CHECK(!a->chr->open);
    CHECK_EQ(chr_write(a->chr, "lost", 4), 4); /* nobody there: dropped, not blocked */
    snprintf(spec, sizeof spec, "tcp:127.0.0.1:%u", port_of(a->chr));
    b = use(1, open_line("client", spec));
    CHECK(b && b->chr->open);
    WAIT_FOR(a->opened == 1);
    b->room = 1000;
    a->send = b->send = pattern;
    a->send_size = b->send_size = sizeof pattern;
    user_push(a);
    user_push(b);
    turns(200);
    CHECK(a->sent < a->send_size || b->count == 1000); /* held back, nothing lost */
    CHECK_EQ(b->count, 1000);
    while (b->count < sizeof pattern) {
        size_t before = b->count;
        b->room = 70000;
        chr_accept_input(b->chr);
        WAIT_FOR(b->count > before);
    }
    WAIT_FOR(a->count == sizeof pattern && b->count == sizeof pattern);
    CHECK(!memcmp(a->bytes, pattern, sizeof pattern));
    CHECK(!memcmp(b->bytes, pattern, sizeof pattern));
    close_all();
}

TEST(tcp_peer_goes_and_another_comes)
{
    struct host_addr addr;
    host_fd fd;
    struct user *a = use(0, open_line("server", "tcp:127.0.0.1:0,server,nowait"));
    int round;
    CHECK(a);
    for (round = 0; round < 3; round++) {
        size_t i;
        CHECK(host_addr_parse("127.0.0.1", &addr));
        addr.port = (uint16_t)port_of(a->chr);
        CHECK(!host_socket(&fd, HOST_INET, HOST_STREAM));
        host_connect(fd, &addr);
        WAIT_FOR(a->opened == round + 1);
        CHECK_EQ(host_fd_write(fd, "hi", 2), 2);
        WAIT_FOR(a->count == (size_t)(round + 1) * 2);
        host_set_option(fd, HOST_OPT_LINGER0, 1);
        host_fd_close(fd); /* a reset: writes fail, no SIGPIPE ends us */
        for (i = 0; i < 50; i++)
            chr_write(a->chr, pattern, 4096);
        WAIT_FOR(a->closed == round + 1);
        CHECK_EQ(chr_write(a->chr, "x", 1), 1);
    }
    close_all();
}

#ifdef RLIMIT_NOFILE
/* Without a free descriptor accept() fails and the client stays in the backlog: the listener is left alone for a while, one line tells, and the client is
 * taken when there is room again, also while the machine's own clock stands. */
TEST(listener_without_descriptors_waits_and_tries_again)
{
    struct user *a;
    const char *preload = getenv("LD_PRELOAD");
    struct rlimit was, none;
    struct host_addr addr;
    struct watch *w;
    host_fd fd;
    unsigned i, looks, most, before;
    int lowest, r;
    int64_t start;
    if (preload && strstr(preload, "vgpreload"))
        SKIP("valgrind takes the connection, then says that there is no descriptor for it");
    a = use(0, open_line("server", "tcp:127.0.0.1:0,server,nowait"));
    before = notices;
    CHECK(a);
    CHECK(host_addr_parse("127.0.0.1", &addr));
    addr.port = (uint16_t)port_of(a->chr);
    CHECK(!host_socket(&fd, HOST_INET, HOST_STREAM));
    r = host_connect(fd, &addr);
    CHECK(!r || r == EMU_EAGAIN);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &was), 0);
    lowest = dup(0);
    close(lowest);
    none = was;
    none.rlim_cur = (rlim_t)lowest;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    start = host_clock_ns();
    for (i = looks = 0; i < 150; i++) { /* 1.5 s at least: a second failure too */
        bool watched = false;
        for (w = machine.watches; w; w = w->next)
            watched = watched || w->want;
        looks += watched;
        turn(0);
        host_poll(NULL, 0, 10 * NS_PER_MS);
    }
    setrlimit(RLIMIT_NOFILE, &was);
    if (looks > 3)
        printf("watched %u times of 150\n", looks);
    most = 2 + (unsigned)((host_clock_ns() - start) / NS_PER_SEC); /* at once, and after each second */
    CHECK(looks >= 2 && looks <= most);
    CHECK_EQ(notices - before, 1);
    CHECK_EQ(a->opened, 0);
    WAIT_FOR(a->opened == 1);
    CHECK_EQ(host_fd_write(fd, "hi", 2), 2);
    WAIT_FOR(a->count == 2);
    host_fd_close(fd);
    WAIT_FOR(a->closed == 1);
    close_all();
    CHECK(!machine.poll_hooks);
}
#else
TEST(listener_without_descriptors_waits_and_tries_again) { SKIP("this host's limit is another"); }
#endif

TEST(unix_client_reconnects)
{
    char spec[300], text[300];
    struct err err;
    struct user *a, *b;
    snprintf(text, sizeof text, "socket,path=%s/u.sock,reconnect=1", dir);
    b = use(1, create_line("client", text, &err)); /* nobody listens yet */
    CHECK(b && !b->chr->open);
    snprintf(spec, sizeof spec, "unix:%s/u.sock,server=on,wait=off", dir);
    a = use(0, open_line("server", spec));
    CHECK(a);
    WAIT_FOR(b->opened == 1 && a->opened == 1);
    chr_write(b->chr, "hello", 5);
    WAIT_FOR(a->count == 5);
    CHECK(!memcmp(a->bytes, "hello", 5));
    close_all();
    CHECK(host_path_kind(strstr(text, "path=") + 5) == HOST_KIND_NONE);
    snprintf(text, sizeof text, "%s/u.sock", dir);
    CHECK_EQ(host_path_kind(text), HOST_KIND_NONE); /* the server took its name away */
}

TEST(monitor_goes_on_once_its_answers_are_fetched)
{
    enum { LINES = 3000, LINE = 10 }; /* answers: more than monitor, line and socket hold together */
    static const char line[] = "help info\n", prompt[] = "(emu) ";
    static uint8_t commands[LINES * LINE], got[65536];
    struct host_addr addr;
    struct err err;
    char spec[300];
    struct chr *c;
    size_t sent = 0, prompts = 0, at = 0;
    int64_t end = host_clock_ns() + 60 * NS_PER_SEC;
    host_fd fd;
    int i;
    snprintf(spec, sizeof spec, "unix:%s/mon.sock,server=on,wait=off", dir);
    c = open_line("mon", spec);
    CHECK(c && !monitor_create(&machine, c, &err));
    for (i = 0; i < LINES; i++)
        memcpy(commands + i * LINE, line, LINE);
    memset(&addr, 0, sizeof addr);
    addr.family = HOST_UNIX;
    snprintf(addr.path, sizeof addr.path, "%s/mon.sock", dir);
    CHECK(!host_socket(&fd, HOST_UNIX, HOST_STREAM));
    CHECK(!host_connect(fd, &addr));
    WAIT_FOR(c->open);
    while (prompts < LINES + 1 && host_clock_ns() < end) {
        int n = sent < sizeof commands ? host_fd_write(fd, commands + sent, sizeof commands - sent) : 0, k;
        sent += n > 0 ? (size_t)n : 0;
        for (i = 0; i < 300; i++) /* nobody reads for a while: the monitor must stop, and go on later */
            turn(0);
        while ((n = host_fd_read(fd, got, sizeof got)) > 0) {
            for (k = 0; k < n; k++) {
                at = got[k] == (uint8_t)prompt[at] ? at + 1 : got[k] == (uint8_t)prompt[0];
                if (at == sizeof prompt - 1)
                    prompts++, at = 0;
            }
            turn(0);
        }
        if (n != EMU_EAGAIN)
            break;
    }
    CHECK_EQ(prompts, LINES + 1);
    host_fd_close(fd);
    monitor_destroy_all(&machine);
    close_all();
}

TEST(telnet_negotiates_and_filters)
{
    static const uint8_t sent[] = { 'a', 255, 251, 31, 'b', 255, 255, 'c', '\r', 0, 'd', 255, 250, 31, 0, 80, 255, 240, 'e', 255, 243, 'f' };
    static const uint8_t wanted[] = { 'a', 'b', 255, 'c', '\r', 'd', 'e', 'f' };
    uint8_t got[64];
    struct host_addr addr;
    host_fd fd;
    int n, total = 0, i;
    struct user *a = use(0, open_line("t", "telnet:127.0.0.1:0,server=on,wait=off"));
    CHECK(a);
    CHECK(host_addr_parse("127.0.0.1", &addr));
    addr.port = (uint16_t)port_of(a->chr);
    CHECK(!host_socket(&fd, HOST_INET, HOST_STREAM));
    host_connect(fd, &addr);
    WAIT_FOR(a->opened == 1);
    for (i = 0; i < (int)sizeof sent; i++) { /* byte by byte: the state survives */
        host_fd_write(fd, sent + i, 1);
        turn(NS_PER_MS);
    }
    WAIT_FOR(a->count == sizeof wanted);
    CHECK(!memcmp(a->bytes, wanted, sizeof wanted));
    CHECK_EQ(a->breaks, 1);
    chr_write(a->chr, "\xff!", 2);
    WAIT_FOR((total += (n = host_fd_read(fd, got + total, sizeof got - (size_t)total)) > 0 ? n : 0) >= 12 + 3);
    turns(20); /* and nothing more */
    CHECK(host_fd_read(fd, got, sizeof got) <= 0);
    CHECK_EQ(total, 12 + 3);
    CHECK(got[0] == 255 && got[1] == 251 && got[2] == 1); /* WILL ECHO */
    CHECK(got[12] == 255 && got[13] == 255 && got[14] == '!');
    host_fd_close(fd);
    close_all();
}

TEST(shared_line_switches_focus)
{
    struct host_addr addr;
    struct err err;
    host_fd fd;
    struct user *a, *m;
    struct chr *line = create_line("x", "socket,host=127.0.0.1,port=0,server=on,wait=off,mux=on", &err);
    CHECK(line);
    a = use(0, open_line("serial0", "chardev:x"));
    m = use(1, chr_find(&machine, "x"));
    CHECK(a && m);
    CHECK(host_addr_parse("127.0.0.1", &addr));
    addr.port = (uint16_t)port_of(line);
    CHECK(!host_socket(&fd, HOST_INET, HOST_STREAM));
    host_connect(fd, &addr);
    WAIT_FOR(a->opened == 1);
    CHECK_EQ(m->opened, 0);
    host_fd_write(fd, "to serial\1cto monitor\1\1!\1c\1bback", 32);
    WAIT_FOR(a->count == 13);
    CHECK(!memcmp(a->bytes, "to serialback", 13));
    CHECK_EQ(m->count, 12);
    CHECK(!memcmp(m->bytes, "to monitor\1!", 12));
    CHECK_EQ(m->opened, 1);
    CHECK_EQ(a->opened, 2);
    CHECK_EQ(a->breaks, 1);
    /* a port that does not read does not keep commands away */
    a->room = 0;
    host_fd_write(fd, "unread\1x", 8);
    WAIT_FOR(machine.requests & REQ_EXIT);
    machine.requests = 0;
    CHECK_EQ(a->count, 13);
    a->room = 100;
    chr_accept_input(a->chr);
    CHECK_EQ(a->count, 19);
    chr_write(a->chr, "A", 1);
    chr_write(m->chr, "M", 1);
    turns(20);
    {
        char got[200];
        int n = host_fd_read(fd, got, sizeof got - 1);
        CHECK(n > 2);
        CHECK(got[n - 2] == 'A' && got[n - 1] == 'M');
    }
    host_fd_close(fd);
    WAIT_FOR(a->closed == 1 && m->closed == 1);
    close_all();
}

TEST(line_is_not_shared_by_accident)
{
    struct err err;
    CHECK(create_line("n", "null", &err));
    CHECK(open_line("serial0", "chardev:n"));
    CHECK(!chr_open(&machine, "serial1", "chardev:n", &err));
    CHECK(strstr(err.text, "mux=on"));
    CHECK(!chr_open(&machine, "serial2", "chardev:nobody", &err));
    CHECK(strstr(err.text, "nobody"));
    CHECK(!create_line("n", "null", &err)); /* the id is taken */
    close_all();
}

TEST(pty_carries_both_ways_and_never_blocks)
{
    struct user *a = use(0, open_line("p", "pty"));
    const char *name;
    char got[16];
    struct err err;
    host_fd fd;
    int64_t start;
    size_t i;
    int n;
    CHECK(a);
    CHECK(strstr(last_notice, "char device redirected to /dev/"));
    name = strstr(a->chr->where, "/dev/");
    CHECK(name);
    CHECK(!host_open_stream(&fd, name, true, true, &err));
    CHECK_EQ(host_fd_write(fd, "in\r\n", 4), 4);
    WAIT_FOR(a->count == 4);
    CHECK(!memcmp(a->bytes, "in\r\n", 4));
    chr_write(a->chr, "out\n", 4);
    for (i = 0, n = 0; i < 2000 && n < 4; i++) { /* through the terminal's worker in the kernel */
        int k = host_fd_read(fd, got + n, sizeof got - (size_t)n);
        n += k > 0 ? k : 0;
        turn(5 * NS_PER_MS);
    }
    CHECK_EQ(n, 4);
    CHECK(!memcmp(got, "out\n", 4));
    host_fd_close(fd);
    a->send = pattern; /* nobody looks any more: a megabyte goes somewhere within a few seconds */
    a->send_size = sizeof pattern;
    start = host_clock_ns();
    for (i = 0; i < 3000 && a->sent < a->send_size; i++) {
        user_push(a);
        turn(5 * NS_PER_MS);
    }
    CHECK_EQ(a->sent, a->send_size);
    CHECK(host_clock_ns() - start < 20 * NS_PER_SEC);
    close_all();
}

TEST(udp_carries_datagrams)
{
    char spec[100];
    host_fd probe;
    struct host_addr addr;
    unsigned port_a, port_b;
    struct user *a, *b;
    CHECK(host_addr_parse("127.0.0.1", &addr));
    CHECK(!host_socket(&probe, HOST_INET, HOST_DGRAM) && !host_bind(probe, &addr, false) && !host_local_addr(probe, &addr));
    port_a = addr.port;
    host_fd_close(probe);
    addr.port = 0;
    CHECK(!host_socket(&probe, HOST_INET, HOST_DGRAM) && !host_bind(probe, &addr, false) && !host_local_addr(probe, &addr));
    port_b = addr.port;
    host_fd_close(probe);
    snprintf(spec, sizeof spec, "udp:127.0.0.1:%u@127.0.0.1:%u", port_b, port_a);
    a = use(0, open_line("a", spec));
    snprintf(spec, sizeof spec, "udp:127.0.0.1:%u@127.0.0.1:%u", port_a, port_b);
    b = use(1, open_line("b", spec));
    CHECK(a && b);
    b->room = 2;
    chr_write(a->chr, "hello", 5);
    WAIT_FOR(b->count == 2);
    b->room = 100;
    chr_accept_input(b->chr);
    WAIT_FOR(b->count == 5);
    CHECK(!memcmp(b->bytes, "hello", 5));
    close_all();
}

TEST(ringbuf_keeps_the_last_bytes)
{
    struct err err;
    char got[20];
    struct chr *c = create_line("r", "ringbuf,size=8", &err);
    CHECK(c);
    CHECK_EQ(chr_write(c, "0123456789", 10), 10);
    CHECK_EQ(chr_ringbuf_read(c, got, sizeof got), 8);
    CHECK(!memcmp(got, "23456789", 8));
    CHECK(!create_line("r2", "ringbuf,size=7", &err));
    close_all();
}

TEST(pipe_pair_and_log_file)
{
    char text[500], cmd[600];
    struct err err;
    struct user *a;
    host_fd fd;
    uint8_t *data;
    size_t size;
    snprintf(cmd, sizeof cmd, "mkfifo %s/p.in %s/p.out", dir, dir);
    CHECK(!system(cmd));
    snprintf(text, sizeof text, "pipe,path=%s/p,logfile=%s/log", dir, dir);
    a = use(0, create_line("pipe", text, &err));
    CHECK(a);
    snprintf(text, sizeof text, "%s/p.in", dir);
    CHECK(!host_open_stream(&fd, text, true, true, &err));
    host_fd_write(fd, "abc", 3);
    WAIT_FOR(a->count == 3);
    host_fd_close(fd);
    snprintf(text, sizeof text, "%s/p.out", dir);
    CHECK(!host_open_stream(&fd, text, false, false, &err));
    chr_write(a->chr, "wxyz", 4);
    turns(20);
    CHECK_EQ(host_fd_read(fd, cmd, 10), 4);
    host_fd_close(fd);
    close_all();
    snprintf(text, sizeof text, "%s/log", dir);
    CHECK(!host_file_load(text, &data, &size, 100, NULL));
    CHECK(size == 4 && !memcmp(data, "wxyz", 4));
    free(data);
}

TEST(bad_lines_are_named)
{
    static const char *const rows[][2] = {
        { "tcp:localhost", "tcp:[HOST]:PORT" }, { "tcp:127.0.0.1:99999,server", "between 0 and 65535" }, { "tcp:127.0.0.1:1", "can't connect" },
        { "unix:/nonexistent/x", "can't connect" }, { "file:/nonexistent/x", "/nonexistent/x" }, { "file:/", "folder" }, { "pipe:/nonexistent", "mkfifo" },
        { "foo", "unknown character back end" }, { "spicevmc", "not supported" }, { "null,x=1", "unknown option" }, { "/dev/nonexistent", "no such device" },
        { "embed:none", "no serial line" }, { "tcp:nohost.invalid:5,server=on,wait=off", "nohost.invalid" }, { "udp:x", "udp:[HOST]:PORT" },
    };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(rows); i++) {
        struct err err;
        err.text[0] = 0;
        if (chr_open(&machine, "bad", rows[i][0], &err) || !strstr(err.text, rows[i][1]))
            printf("%s: \"%s\"\n", rows[i][0], err.text), *test_failed = 1;
        close_all();
    }
}

TEST(embedded_line_is_called)
{
    CHECK(!chr_open(&machine, "e", "embed:x", NULL));
    close_all();
}

TEST(a_setup)
{
    const char *tmp = getenv("TMPDIR");
    char cmd[300];
    size_t i;
    machine.log_fn = keep_notice;
    machine.front = &front;
    machine.wake_write = HOST_FD_NONE;
    front.echr = 1;
    CHECK(!clock_create(&machine));
    for (i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 131 >> 5);
    snprintf(dir, sizeof dir, "%s/emu-chardev-%ld", tmp && *tmp ? tmp : "/tmp", host_pid());
    snprintf(cmd, sizeof cmd, "mkdir -p %s", dir);
    CHECK(!system(cmd));
}
TEST(zz_cleanup)
{
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK(!system(cmd));
    clock_destroy(&machine);
}

TEST_MAIN(TEST_CASE(a_setup), TEST_CASE(file_gets_every_byte_and_promptly), TEST_CASE(tcp_both_ways_with_a_slow_reader), TEST_CASE(tcp_peer_goes_and_another_comes), TEST_CASE(listener_without_descriptors_waits_and_tries_again),
          TEST_CASE(unix_client_reconnects), TEST_CASE(monitor_goes_on_once_its_answers_are_fetched), TEST_CASE(telnet_negotiates_and_filters), TEST_CASE(shared_line_switches_focus), TEST_CASE(line_is_not_shared_by_accident),
          TEST_CASE(pty_carries_both_ways_and_never_blocks), TEST_CASE(udp_carries_datagrams), TEST_CASE(ringbuf_keeps_the_last_bytes), TEST_CASE(pipe_pair_and_log_file),
          TEST_CASE(bad_lines_are_named), TEST_CASE(embedded_line_is_called), TEST_CASE(zz_cleanup))
