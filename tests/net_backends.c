/* tests/net_backends.c - socket, stream and dgram backends: two machines' ends in one process, joined over loopback and unix sockets.
 *
 * The wire format is checked against a peer written here from its description: a 32-bit big-endian length before each frame of a stream,
 * one frame a datagram. No CPU runs: the descriptors are polled by hand.
 */
#include "machine.h"
#include "net/net.h"
#include "test.h"
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
    struct emu emu;
    struct net_port nic; /* the machine's side */
    struct net_port *backend;
    unsigned frames, kicks;
    uint64_t bytes, sum;
    uint8_t last[70000];
    size_t last_size;
    bool full;
};

static void *fake_alloc(void *opaque, void *p, size_t size)
{
    (void)opaque;
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

static bool nic_can_receive(struct net_port *p) { return !((struct end *)p->opaque)->full; }
static int nic_receive(struct net_port *p, const struct net_frame *f)
{
    struct end *n = p->opaque;
    size_t i;
    if (n->full)
        return 0;
    n->last_size = net_frame_copy(f, 0, n->last, sizeof n->last);
    for (i = 14; i < n->last_size; i++)
        n->sum = (n->sum ^ n->last[i]) * 1099511628211u;
    n->frames++;
    n->bytes += f->size;
    return 1;
}
static void nic_kick(struct net_port *p) { ((struct end *)p->opaque)->kicks++; }

static struct end *end_new(const char *netdev, struct err *err)
{
    struct end *n = calloc(1, sizeof *n);
    struct options o;
    int r;
    n->emu.alloc_fn = fake_alloc;
    n->emu.wake_read = n->emu.wake_write = HOST_FD_NONE;
    clock_create(&n->emu);
    snprintf(n->nic.name, sizeof n->nic.name, "nic");
    n->nic.opaque = n;
    n->nic.can_receive = nic_can_receive;
    n->nic.receive = nic_receive;
    n->nic.kick = nic_kick;
    r = options_parse(&o, &n->emu, "-netdev x", netdev, "type", err);
    if (!r) {
        r = net_netdev_add(&n->emu, &o, err);
        options_free(&o);
    }
    if (r) {
        clock_destroy(&n->emu);
        free(n);
        return NULL;
    }
    net_port_register(&n->emu, &n->nic);
    n->backend = net_port_find(&n->emu, "n0");
    net_port_connect(&n->nic, n->backend, NULL);
    return n;
}

static void end_free(struct end *n)
{
    if (!n)
        return;
    net_destroy(&n->emu);
    clock_destroy(&n->emu);
    free(n);
}

/* Looks at every descriptor of the machine once. */
static void poll_end(struct end *n, int64_t wait_ns)
{
    struct host_poll_item items[8];
    struct watch *watches[8], *w;
    size_t count = 0, i;
    for (w = n->emu.watches; w && count < 8; w = w->next)
        if (w->want) {
            watches[count] = w;
            items[count].fd = w->fd;
            items[count].want = w->want;
            items[count++].ready = 0;
        }
    if (count && host_poll(items, count, wait_ns) > 0)
        for (i = 0; i < count; i++)
            for (w = n->emu.watches; w; w = w->next)
                if (items[i].ready && w == watches[i]) {
                    w->ready(w->opaque, items[i].ready);
                    break;
                }
    clock_run_timers(&n->emu);
}

static void pump(struct end *a, struct end *b)
{
    int i;
    for (i = 0; i < 20; i++) {
        if (a)
            poll_end(a, NS_PER_MS);
        if (b)
            poll_end(b, NS_PER_MS);
    }
}

static int send_frame(struct end *n, const uint8_t *bytes, size_t size)
{
    struct host_iov piece[2];
    struct net_frame f;
    memset(&f, 0, sizeof f);
    piece[0].base = (void *)(uintptr_t)bytes;
    piece[0].size = 14;
    piece[1].base = (void *)(uintptr_t)(bytes + 14);
    piece[1].size = size - 14;
    f.pieces = piece;
    f.count = 2;
    f.size = size;
    return net_send(&n->nic, &f);
}

static unsigned free_port(int type)
{
    struct host_addr a;
    host_fd fd;
    host_addr_parse("127.0.0.1", &a);
    a.port = 0;
    host_socket(&fd, HOST_INET, type);
    host_bind(fd, &a, false);
    host_local_addr(fd, &a);
    host_fd_close(fd);
    return a.port;
}

/* 8 MiB of frames of all sizes, both ways, with a receiver that is full now and then: all arrive, in order. */
static bool exchange(struct end *a, struct end *b)
{
    struct end *from[2], *to[2];
    uint64_t x = 1;
    unsigned way, i;
    from[0] = a, to[0] = b, from[1] = b, to[1] = a;
    for (way = 0; way < 2; way++) {
        uint64_t sum = 0, bytes = 0;
        unsigned sent = 0, tries = 0;
        to[way]->sum = 0;
        to[way]->frames = 0;
        while (bytes < 8 * MIB && tries < 1000000) {
            uint8_t f[9014];
            size_t size, k;
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            size = 60 + (size_t)(x % 8900);
            memset(f, (int)(x >> 32 & 0xFF), size);
            st32be(f + 20, sent);
            while (!send_frame(from[way], f, size) && tries++ < 1000000) {
                to[way]->full = (tries & 15) < 3;
                if (!to[way]->full)
                    net_kick_peer(&to[way]->nic);
                poll_end(to[way], 0);
                poll_end(from[way], 0);
            }
            for (k = 14; k < size; k++)
                sum = (sum ^ f[k]) * 1099511628211u;
            bytes += size;
            sent++;
        }
        to[way]->full = false;
        net_kick_peer(&to[way]->nic);
        for (i = 0; i < 2000 && to[way]->frames < sent; i++) {
            poll_end(from[way], 0);
            poll_end(to[way], NS_PER_MS);
        }
        if (to[way]->frames != sent || to[way]->sum != sum) {
            printf("way %u: %u of %u frames\n", way, to[way]->frames, sent);
            return false;
        }
    }
    return true;
}

TEST(socket_listen_and_connect_carry_frames)
{
    char text[100];
    struct err err;
    unsigned port = free_port(HOST_STREAM);
    struct end *a, *b;
    snprintf(text, sizeof text, "socket,id=n0,listen=127.0.0.1:%u", port);
    a = end_new(text, &err);
    CHECK(a);
    snprintf(text, sizeof text, "socket,id=n0,connect=127.0.0.1:%u", port);
    b = end_new(text, &err);
    CHECK(b);
    pump(a, b);
    CHECK(exchange(a, b));
    end_free(a);
    end_free(b);
}

TEST(stream_unix_survives_a_peer_that_comes_and_goes)
{
    char text[200], path[80];
    struct err err;
    struct end *a, *b;
    uint8_t f[60] = { 0 };
    int round;
    snprintf(path, sizeof path, "/tmp/emu-net-%ld.sock", host_pid());
    snprintf(text, sizeof text, "stream,id=n0,server=off,addr.type=unix,addr.path=%s,reconnect-ms=20", path);
    b = end_new(text, &err); /* before anybody listens */
    CHECK(b);
    CHECK_EQ(send_frame(b, f, 60), 1); /* dropped */
    for (round = 0; round < 3; round++) {
        char server[200];
        snprintf(server, sizeof server, "stream,id=n0,server=on,addr.type=unix,addr.path=%s", path);
        a = end_new(server, &err);
        CHECK(a);
        pump(a, b);
        pump(a, b);
        CHECK(exchange(a, b));
        end_free(a);
        pump(NULL, b);
        CHECK_EQ(host_path_kind(path), HOST_KIND_NONE);
        CHECK_EQ(send_frame(b, f, 60), 1);
        CHECK(!b->backend->link_down);
    }
    end_free(b);
}

/* The format, byte for byte, as the other program's manual has it. */
TEST(stream_format_is_length_and_frame)
{
    char text[200];
    struct err err;
    unsigned port = free_port(HOST_STREAM), i;
    struct end *a;
    struct host_addr to;
    host_fd fd;
    uint8_t f[100], wire[200];
    int n = 0, r;
    snprintf(text, sizeof text, "stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=%u", port);
    a = end_new(text, &err);
    CHECK(a);
    host_addr_parse("127.0.0.1", &to);
    to.port = (uint16_t)port;
    CHECK_EQ(host_socket(&fd, HOST_INET, HOST_STREAM), 0);
    r = host_connect(fd, &to);
    CHECK(!r || r == EMU_EAGAIN);
    pump(a, NULL);
    for (i = 0; i < 100; i++)
        f[i] = (uint8_t)i;
    CHECK_EQ(send_frame(a, f, 100), 1);
    for (i = 0; i < 500 && n < 104; i++) {
        poll_end(a, 10 * NS_PER_MS);
        r = host_fd_read(fd, wire + n, sizeof wire - (size_t)n);
        n += r > 0 ? r : 0;
    }
    CHECK_EQ(n, 104);
    CHECK_EQ(ld32be(wire), 100);
    CHECK(!memcmp(wire + 4, f, 100));
    /* a frame in single bytes */
    for (i = 0; i < 104; i++) {
        CHECK_EQ(host_fd_write(fd, wire + i, 1), 1);
        poll_end(a, NS_PER_MS);
    }
    pump(a, NULL);
    CHECK_EQ(a->frames, 1);
    CHECK(a->last_size == 100 && !memcmp(a->last, f, 100));
    /* hostile: a length that no frame has ends the connection, and another client may come */
    st32be(wire, 0x7FFFFFFF);
    host_fd_write(fd, wire, 4);
    pump(a, NULL);
    r = host_fd_read(fd, wire, sizeof wire);
    CHECK(r == 0 || r == EMU_ECONNRESET);
    host_fd_close(fd);
    CHECK_EQ(host_socket(&fd, HOST_INET, HOST_STREAM), 0);
    host_connect(fd, &to);
    pump(a, NULL);
    st32be(wire, 60);
    memset(wire + 4, 1, 60);
    CHECK_EQ(host_fd_write(fd, wire, 64), 64);
    pump(a, NULL);
    CHECK_EQ(a->frames, 2);
    host_fd_close(fd);
    end_free(a);
}

static unsigned notices;
static void count_notice(void *opaque, unsigned mask, const char *text)
{
    (void)opaque, (void)text;
    notices += (mask & LOG_NOTICE) != 0;
}

/* Without a free descriptor accept() fails and the client stays in the backlog: the listener is left alone for a while, one line tells, and the client is
 * taken when there is room again. */
TEST(listener_without_descriptors_waits_and_tries_again)
{
    static const char *const kinds[] = { "socket,id=n0,listen=127.0.0.1:%u", "stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=%u" };
    const char *preload = getenv("LD_PRELOAD");
    unsigned kind, i;
    if (preload && strstr(preload, "vgpreload"))
        SKIP("valgrind takes the connection, then says that there is no descriptor for it");
    for (kind = 0; kind < 2; kind++) {
        char text[200];
        struct err err;
        unsigned port = free_port(HOST_STREAM), looks, most;
        int64_t start;
        struct rlimit was, none;
        struct host_addr to;
        struct end *a;
        struct watch *w;
        uint8_t f[60] = { 0 };
        host_fd fd;
        int lowest, r;
        snprintf(text, sizeof text, kinds[kind], port);
        a = end_new(text, &err);
        CHECK(a);
        notices = 0;
        a->emu.log_fn = count_notice;
        a->emu.log_mask |= LOG_NOTICE;
        host_addr_parse("127.0.0.1", &to);
        to.port = (uint16_t)port;
        CHECK_EQ(host_socket(&fd, HOST_INET, HOST_STREAM), 0);
        r = host_connect(fd, &to);
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
            for (w = a->emu.watches; w; w = w->next)
                watched = watched || w->want;
            looks += watched;
            poll_end(a, 0);
            usleep(10000);
        }
        setrlimit(RLIMIT_NOFILE, &was);
        if (looks > 3)
            printf("watched %u times of 150\n", looks);
        most = 2 + (unsigned)((host_clock_ns() - start) / NS_PER_SEC); /* at once, and after each second */
        CHECK(looks >= 2 && looks <= most);
        CHECK_EQ(notices, 1);
        CHECK_EQ(a->kicks, 0);
        for (i = 0; i < 200 && !a->kicks; i++) {
            poll_end(a, 0);
            usleep(10000);
        }
        CHECK_EQ(a->kicks, 1);
        CHECK_EQ(send_frame(a, f, 60), 1);
        for (i = 0; i < 100 && (r = host_fd_read(fd, text, sizeof text)) == EMU_EAGAIN; i++)
            usleep(10000);
        CHECK_EQ(r, 64);
        host_fd_close(fd);
        end_free(a);
    }
}

/* A socket in the file system that nobody listens on is a leftover and is replaced; one that is in use, and a port in use, end the command line. */
TEST(listeners_replace_only_what_is_stale)
{
    static const char *const kinds[] = { "stream,id=n0,server=on,addr.type=unix,addr.path=%s", "stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=%s",
                                         "socket,id=n0,listen=127.0.0.1:%s" };
    char text[300], where[120];
    struct host_addr path;
    struct err err;
    struct end *a, *b;
    host_fd fd;
    unsigned i, port = free_port(HOST_STREAM);
    memset(&path, 0, sizeof path);
    path.family = HOST_UNIX;
    snprintf(path.path, sizeof path.path, "/tmp/emu-net-stale-%ld", host_pid());
    CHECK_EQ(host_socket(&fd, HOST_UNIX, HOST_STREAM), 0);
    CHECK_EQ(host_bind(fd, &path, false), 0);
    host_fd_close(fd);
    for (i = 0; i < 3; i++) {
        if (i)
            snprintf(where, sizeof where, "%u", port);
        else
            snprintf(where, sizeof where, "%s", path.path);
        snprintf(text, sizeof text, kinds[i], where);
        a = end_new(text, &err);
        if (!a)
            printf("%s\n", err.text);
        CHECK(a);
        b = end_new(text, &err);
        CHECK(!b && strstr(err.text, where));
        CHECK(strstr(err.text, i ? "in use" : "another program listens there"));
        end_free(a);
    }
    CHECK_EQ(host_path_kind(path.path), HOST_KIND_NONE);
}

TEST(datagrams_carry_frames)
{
    char text[300];
    struct err err;
    unsigned p = free_port(HOST_DGRAM), q = free_port(HOST_DGRAM);
    struct end *a, *b;
    uint8_t f[9014];
    memset(f, 7, sizeof f);
    snprintf(text, sizeof text, "socket,id=n0,udp=127.0.0.1:%u,localaddr=127.0.0.1:%u", p, q);
    a = end_new(text, &err);
    CHECK(a);
    snprintf(text, sizeof text, "dgram,id=n0,local.type=inet,local.host=127.0.0.1,local.port=%u,remote.type=inet,remote.host=127.0.0.1,remote.port=%u", p, q);
    b = end_new(text, &err);
    CHECK(b);
    CHECK_EQ(send_frame(a, f, 60), 1);
    CHECK_EQ(send_frame(b, f, 9014), 1);
    CHECK_EQ(send_frame(b, f, 100), 1);
    a->full = true;
    pump(a, b);
    CHECK_EQ(a->frames, 0);
    a->full = false;
    net_kick_peer(&a->nic);
    pump(a, b);
    CHECK_EQ(b->frames, 1);
    CHECK_EQ(b->last_size, 60);
    CHECK_EQ(a->frames, 2);
    CHECK_EQ(a->last_size, 100);
    end_free(a);
    end_free(b);
}

TEST(unix_datagrams_carry_frames)
{
    char text[300];
    struct err err;
    struct end *a, *b;
    uint8_t f[1514];
    memset(f, 7, sizeof f);
    snprintf(text, sizeof text, "dgram,id=n0,local.type=unix,local.path=/tmp/emu-net-%ld.a,remote.type=unix,remote.path=/tmp/emu-net-%ld.b", host_pid(), host_pid());
    a = end_new(text, &err);
    CHECK(a);
    snprintf(text, sizeof text, "dgram,id=n0,local.type=unix,local.path=/tmp/emu-net-%ld.b,remote.type=unix,remote.path=/tmp/emu-net-%ld.a", host_pid(), host_pid());
    b = end_new(text, &err);
    CHECK(b);
    CHECK(exchange(a, b));
    end_free(a);
    end_free(b);
}

/* Descriptors that another program opened: a connected stream, and datagrams. */
TEST(descriptors_of_another_program_carry_frames)
{
    static const char *const kinds[] = { "socket,id=n0,fd=%d", "stream,id=n0,addr.type=fd,addr.str=%d", "dgram,id=n0,local.type=fd,local.str=%d" };
    size_t i;
    for (i = 0; i < 3; i++) {
        char text[100];
        struct err err;
        struct end *a, *b;
        int fds[2];
        CHECK_EQ(socketpair(AF_UNIX, i < 2 ? SOCK_STREAM : SOCK_DGRAM, 0, fds), 0);
        snprintf(text, sizeof text, kinds[i], fds[0]);
        a = end_new(text, &err);
        CHECK(a);
        snprintf(text, sizeof text, kinds[i], fds[1]);
        b = end_new(text, &err);
        CHECK(b);
        CHECK(exchange(a, b));
        end_free(a);
        end_free(b);
    }
}

/* IPv6 in brackets, and addr.ipv4=, addr.ipv6=: a name that has both goes to the family that is left; an address of the other is an error. */
TEST(streams_choose_their_family)
{
    static const struct { const char *listen, *connect; } rows[] = {
        { "socket,id=n0,listen=[::1]:%u", "socket,id=n0,connect=[::1]:%u" },
        { "stream,id=n0,server=on,addr.type=inet,addr.host=::1,addr.port=%u", "stream,id=n0,addr.type=inet,addr.host=::1,addr.port=%u" },
        { "stream,id=n0,server=on,addr.type=inet,addr.host=::1,addr.port=%u,addr.ipv6=on", "stream,id=n0,addr.type=inet,addr.host=,addr.port=%u,addr.ipv4=off" },
        { "stream,id=n0,server=on,addr.type=inet,addr.host=,addr.port=%u,addr.ipv4=on", "stream,id=n0,addr.type=inet,addr.host=127.0.0.1,addr.port=%u" },
    };
    static const struct { const char *text, *says; } bad[] = {
        { "stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=0,addr.ipv4=off", "127.0.0.1" },
        { "stream,id=n0,server=on,addr.type=inet,addr.host=::1,addr.port=0,addr.ipv4=on", "ipv4= and ipv6=" },
        { "stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=0,addr.ipv4=perhaps", "addr.ipv4=perhaps" },
        { "stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=0,addr.ipv4=off,addr.ipv6=off", "both off" },
        { "dgram,id=n0,local.type=inet,local.host=::1,local.port=0,local.ipv6=off,remote.type=inet,remote.host=127.0.0.1,remote.port=9", "ipv4= and ipv6=" },
    };
    struct err err;
    struct end *a, *b;
    host_fd probe;
    size_t i;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        a = end_new(bad[i].text, &err);
        if (a || !strstr(err.text, bad[i].says))
            printf("%s: %s\n", bad[i].text, a ? "was taken" : err.text);
        CHECK(!a && strstr(err.text, bad[i].says));
    }
    if (host_socket(&probe, HOST_INET6, HOST_STREAM))
        SKIP("the host has no IPv6");
    host_fd_close(probe);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[200];
        unsigned port = free_port(HOST_STREAM);
        snprintf(text, sizeof text, rows[i].listen, port);
        a = end_new(text, &err);
        if (!a && i < 3)
            SKIP(err.text);
        CHECK(a);
        snprintf(text, sizeof text, rows[i].connect, port);
        b = end_new(text, &err);
        if (!b)
            printf("%s: %s\n", text, err.text);
        CHECK(b);
        pump(a, b);
        CHECK(exchange(a, b));
        end_free(a);
        end_free(b);
    }
}

/* All members of the group hear it but the sender. dgram's local address names the interface and needs no port, as the manual writes it. */
TEST(multicast_joins_several_without_echo)
{
    static const char *const kinds[] = {
        "socket,id=n0,mcast=230.0.0.77:%u,localaddr=127.0.0.1",
        "dgram,id=n0,remote.type=inet,remote.host=230.0.0.77,remote.port=%u,local.type=inet,local.host=127.0.0.1",
    };
    char text[200];
    struct err err;
    struct end *m[3];
    unsigned i, k, port = free_port(HOST_STREAM);
    uint8_t f[200];
    memset(f, 9, sizeof f);
    for (k = 0; k < 2; k++) {
        for (i = 0; i < 3; i++) {
            snprintf(text, sizeof text, kinds[i == 1 ? !k : k], port); /* both kinds understand each other */
            m[i] = end_new(text, &err);
            if (!m[i] && !i && !k)
                SKIP(err.text);
            if (!m[i])
                printf("%s\n", err.text);
            CHECK(m[i]);
        }
        CHECK_EQ(send_frame(m[0], f, 200), 1);
        for (i = 0; i < 3; i++)
            pump(m[i], NULL);
        if (!m[1]->frames)
            SKIP("this host's loopback carries no multicast");
        CHECK_EQ(m[0]->frames, 0);
        CHECK_EQ(m[1]->frames, 1);
        CHECK_EQ(m[2]->frames, 1);
        for (i = 0; i < 3; i++)
            end_free(m[i]);
    }
}

/* A hub of three: everybody else hears a frame; one that is full loses it without holding up the others. */
TEST(hub_joins_three)
{
    struct end *n;
    struct err err;
    struct net_port *hub[3], extra[3];
    struct end *ends[3];
    unsigned i;
    uint8_t f[60] = { 0 };
    n = end_new("hubport,id=n0,hubid=3", &err);
    CHECK(n);
    ends[0] = n;
    for (i = 1; i < 3; i++) {
        struct options o;
        char text[40];
        ends[i] = calloc(1, sizeof *ends[i]);
        snprintf(text, sizeof text, "hubport,id=h%u,hubid=3", i);
        CHECK_EQ(options_parse(&o, &n->emu, "-netdev x", text, "type", &err), 0);
        CHECK_EQ(net_netdev_add(&n->emu, &o, &err), 0);
        options_free(&o);
        snprintf(text, sizeof text, "h%u", i);
        hub[i] = net_port_find(&n->emu, text);
        extra[i] = n->nic;
        snprintf(extra[i].name, sizeof extra[i].name, "x%u", i);
        extra[i].peer = NULL;
        extra[i].opaque = ends[i];
        net_port_register(&n->emu, &extra[i]);
        CHECK_EQ(net_port_connect(&extra[i], hub[i], &err), 0);
    }
    CHECK_EQ(send_frame(n, f, 60), 1);
    CHECK_EQ(ends[0]->frames, 0);
    CHECK_EQ(ends[1]->frames, 1);
    CHECK_EQ(ends[2]->frames, 1);
    ends[1]->full = true;
    CHECK_EQ(send_frame(n, f, 60), 1);
    CHECK_EQ(ends[1]->frames, 1);
    CHECK_EQ(ends[2]->frames, 2);
    end_free(n);
    free(ends[1]);
    free(ends[2]);
}

static bool add_netdev(struct emu *e, const char *text)
{
    struct options o;
    struct err err;
    int r = options_parse(&o, e, "-netdev x", text, "type", &err);
    if (!r) {
        r = net_netdev_add(e, &o, &err);
        options_free(&o);
    }
    return !r;
}

/* A super-frame crosses a hub whole to a port that takes it, and cut to one that does not. */
TEST(hub_passes_super_frames_on)
{
    static uint8_t bytes[54 + 3000];
    struct err err;
    struct end *n = end_new("hubport,id=n0,hubid=3", &err), *ends[3];
    struct net_port *hub, extra[3];
    struct host_iov piece;
    struct net_frame f;
    unsigned i, count;
    CHECK(n);
    for (count = 1; count < 3; count++) { /* a pair, then three */
        char text[40];
        ends[count] = calloc(1, sizeof *ends[count]);
        snprintf(text, sizeof text, "hubport,id=h%u,hubid=3", count);
        CHECK(add_netdev(&n->emu, text));
        snprintf(text, sizeof text, "h%u", count);
        hub = net_port_find(&n->emu, text);
        extra[count] = n->nic;
        snprintf(extra[count].name, sizeof extra[count].name, "x%u", count);
        extra[count].peer = NULL;
        extra[count].opaque = ends[count];
        extra[count].takes_gso = extra[count].takes_csum = count == 1;
        net_port_register(&n->emu, &extra[count]);
        CHECK_EQ(net_port_connect(&extra[count], hub, &err), 0);
        memset(bytes, 0, sizeof bytes);
        st16be(bytes + 12, 0x0800);
        bytes[14] = 0x45;
        st16be(bytes + 16, 3040);
        bytes[22] = 64, bytes[23] = 6;
        bytes[46] = 0x50, bytes[47] = 0x10;
        memset(&f, 0, sizeof f);
        piece.base = bytes;
        piece.size = sizeof bytes;
        f.pieces = &piece;
        f.count = 1;
        f.size = sizeof bytes;
        f.gso = NET_GSO_TCP4;
        f.gso_size = 1000;
        f.header_bytes = 54;
        f.needs_csum = true;
        f.csum_start = 34;
        f.csum_offset = 16;
        CHECK_EQ(net_send(&n->nic, &f), 1);
        CHECK_EQ(ends[1]->frames, count);
        CHECK_EQ(ends[1]->last_size, sizeof bytes);
    }
    CHECK_EQ(ends[2]->frames, 3);
    CHECK_EQ(ends[2]->last_size, 54 + 1000);
    end_free(n);
    for (i = 1; i < 3; i++)
        free(ends[i]);
}

/* Two hubs with two cables between them, and two in a ring without a third port: frames end, and so do questions for room and kicks. */
TEST(hubs_in_a_ring_end_a_frame)
{
    struct err err;
    uint8_t f[60] = { 0 };
    struct end *n = end_new("hubport,id=n0,hubid=0", &err);
    CHECK(n);
    CHECK(add_netdev(&n->emu, "hubport,id=a,hubid=0") && add_netdev(&n->emu, "hubport,id=b,hubid=1,netdev=a"));
    CHECK(add_netdev(&n->emu, "hubport,id=c,hubid=0") && add_netdev(&n->emu, "hubport,id=d,hubid=1,netdev=c"));
    CHECK_EQ(send_frame(n, f, 60), 1);
    net_kick_peer(&n->nic);
    end_free(n);
    n = end_new("hubport,id=n0,hubid=5", &err);
    CHECK(n);
    CHECK(add_netdev(&n->emu, "hubport,id=a,hubid=0") && add_netdev(&n->emu, "hubport,id=b,hubid=1,netdev=a"));
    CHECK(add_netdev(&n->emu, "hubport,id=c,hubid=0") && add_netdev(&n->emu, "hubport,id=d,hubid=1,netdev=c"));
    CHECK(net_can_send(net_port_find(&n->emu, "a")));
    net_kick_peer(net_port_find(&n->emu, "a"));
    end_free(n);
}

/* A deleted interface leaves a descriptor that is always ready and always fails: one line, and no more looks at it. */
TEST(tap_that_is_gone_is_not_watched)
{
    struct err err;
    struct watch *w;
    struct end *n;
    char text[40];
    uint8_t f[60] = { 0 };
    int fds[2], i;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    snprintf(text, sizeof text, "tap,id=n0,fd=%d,vnet_hdr=off", fds[0]);
    n = end_new(text, &err);
    CHECK(n);
    CHECK_EQ(write(fds[1], f, 60), 60);
    poll_end(n, NS_PER_SEC);
    CHECK_EQ(n->frames, 1);
    close(fds[1]); /* reads give "end" from now on */
    for (i = 0; i < 3; i++)
        poll_end(n, 10 * NS_PER_MS);
    for (w = n->emu.watches; w; w = w->next)
        CHECK_EQ(w->want, 0);
    CHECK_EQ(send_frame(n, f, 60), 1);
    end_free(n);
}

TEST(backends_name_what_is_wrong)
{
    static const struct { const char *text, *says; } rows[] = {
        { "socket,id=n0", "exactly one of" },
        { "socket,id=n0,listen=:1,connect=:2", "exactly one of" },
        { "socket,id=n0,connect=127.0.0.1", "connect=127.0.0.1 is not host:port" },
        { "socket,id=n0,connect=127.0.0.1:99999", "is not host:port" },
        { "socket,id=n0,connect=127.0.0.1:1", "start the listening side first" },
        { "socket,id=n0,mcast=10.0.0.1:99", "not a multicast address" },
        { "socket,id=n0,udp=127.0.0.1:99", "needs localaddr" },
        { "socket,id=n0,fd=x", "fd=x" },
        { "stream,id=n0", "needs addr.type" },
        { "stream,id=n0,addr.type=tcp", "addr.type=tcp is not inet, unix or fd" },
        { "stream,id=n0,addr.type=inet,addr.host=127.0.0.1", "addr.port" },
        { "stream,id=n0,addr.type=unix,addr.path=/tmp/x,server=on,reconnect-ms=5", "reconnect-ms" },
        { "stream,id=n0,addr.type=unix,addr.path=/nonexistent/x,server=on", "cannot listen" },
        { "dgram,id=n0", "needs remote.type" },
        { "tap,id=n0,ifname=a-name-that-is-too-long-for-linux", "tap" },
        { "tap,id=n0,fd=5,ifname=x", "fd= goes without" },
        { "tap,id=n0,script=no,colour=red", "" },
        { "bogus,id=n0", "unknown type" },
        { "vde,id=n0", "not supported yet" },
    };
    struct err err;
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct end *n = end_new(rows[i].text, &err);
        if (n || !strstr(err.text, rows[i].says))
            printf("%s: %s\n", rows[i].text, n ? "was taken" : err.text);
        CHECK(!n && strstr(err.text, rows[i].says));
    }
}

TEST_MAIN(TEST_CASE(socket_listen_and_connect_carry_frames), TEST_CASE(stream_unix_survives_a_peer_that_comes_and_goes), TEST_CASE(stream_format_is_length_and_frame),
          TEST_CASE(listener_without_descriptors_waits_and_tries_again), TEST_CASE(listeners_replace_only_what_is_stale), TEST_CASE(datagrams_carry_frames), TEST_CASE(unix_datagrams_carry_frames), TEST_CASE(multicast_joins_several_without_echo), TEST_CASE(hub_joins_three), TEST_CASE(hub_passes_super_frames_on),
          TEST_CASE(descriptors_of_another_program_carry_frames), TEST_CASE(streams_choose_their_family),
          TEST_CASE(hubs_in_a_ring_end_a_frame), TEST_CASE(tap_that_is_gone_is_not_watched),
          TEST_CASE(backends_name_what_is_wrong))
