/* tests/net_tap.c - the tap backend against the host's kernel, in a network namespace of the test's own.
 *
 * The test is the guest: it asks for the kernel's address by ARP, pings it, and sends a datagram whose checksum it leaves open; script=
 * sets the interface up. Needs Linux, /dev/net/tun, ip(8), and the right to make a namespace (root or user namespaces).
 */
#include "machine.h"
#include "net/net.h"
#include "test.h"

#ifdef __linux__
#include <sched.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#ifndef PACKET_VNET_HDR
#define PACKET_VNET_HDR 15 /* linux/if_packet.h */
#endif
#endif

struct end {
    struct emu emu;
    struct net_port nic;
    uint8_t last[70000];
    size_t last_size;
    unsigned frames;
    uint16_t want_type;
    struct net_frame last_frame;
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

static int nic_receive(struct net_port *p, const struct net_frame *f)
{
    struct end *n = p->opaque;
    uint8_t head[14];
    net_frame_copy(f, 0, head, sizeof head);
    if (ld16be(head + 12) != n->want_type || (head[0] & 1))
        return 1; /* router solicitations and such */
    n->last_size = net_frame_copy(f, 0, n->last, sizeof n->last);
    n->last_frame = *f;
    n->frames++;
    return 1;
}

static void poll_end(struct end *n, unsigned wanted)
{
    int i;
    for (i = 0; i < 200 && n->frames < wanted; i++) {
        struct host_poll_item item;
        struct watch *w = n->emu.watches;
        item.fd = w->fd;
        item.want = w->want;
        item.ready = 0;
        if (host_poll(&item, 1, 10 * NS_PER_MS) > 0)
            w->ready(w->opaque, item.ready);
    }
}

static int send_frame(struct end *n, uint8_t *bytes, size_t size, bool open_csum)
{
    struct host_iov piece;
    struct net_frame f;
    memset(&f, 0, sizeof f);
    piece.base = bytes;
    piece.size = size;
    f.pieces = &piece;
    f.count = 1;
    f.size = size;
    if (open_csum) {
        f.needs_csum = true;
        f.csum_start = 34;
        f.csum_offset = 6;
    }
    return net_send(&n->nic, &f);
}

static const uint8_t our_mac[6] = { 0x52, 0x54, 0, 0x77, 0, 2 };
static uint8_t kernel_mac[6];

static size_t ip_header(uint8_t *f, unsigned proto, size_t payload)
{
    memcpy(f, kernel_mac, 6);
    memcpy(f + 6, our_mac, 6);
    st16be(f + 12, 0x0800);
    memset(f + 14, 0, 20);
    f[14] = 0x45;
    st16be(f + 16, (uint16_t)(20 + payload));
    f[22] = 64, f[23] = (uint8_t)proto;
    st32be(f + 26, 0x0A4D0002), st32be(f + 30, 0x0A4D0001);
    st16be(f + 24, net_checksum(f + 14, 20, 0));
    return 34 + payload;
}

static void test_tap(int *test_failed, const char *vnet)
{
    char script[64];
    struct end *n = calloc(1, sizeof *n);
    struct options o;
    struct err err;
    struct host_addr a;
    host_fd udp;
    uint8_t f[1514];
    char text[200];
    size_t size, i;
    int r = EMU_ENOTSUP;
    FILE *s;
    snprintf(script, sizeof script, "/tmp/emu-tap-test-%ld.sh", host_pid());
    s = fopen(script, "w");
    CHECK(s);
    fprintf(s, "#!/bin/sh\nip addr add 10.77.0.1/24 dev $1 && ip link set $1 up && ip link set lo up\n");
    fclose(s);
#ifdef __linux__
    chmod(script, 0755);
#endif
    n->emu.alloc_fn = fake_alloc;
    n->emu.wake_read = n->emu.wake_write = HOST_FD_NONE;
    clock_create(&n->emu);
    n->nic.opaque = n;
    n->nic.receive = nic_receive;
    net_port_register(&n->emu, &n->nic);
    snprintf(text, sizeof text, "tap,id=n0,ifname=emutest0,script=%s,downscript=no,vnet_hdr=%s", script, vnet);
    if (!options_parse(&o, &n->emu, "-netdev", text, "type", &err))
        r = net_netdev_add(&n->emu, &o, &err);
    options_free(&o);
    if (r) {
        printf("%s\n", err.text);
        SKIP("no tap here");
    }
    CHECK_EQ(net_port_connect(&n->nic, net_port_find(&n->emu, "n0"), &err), 0);
    /* ARP */
    memset(f, 0, sizeof f);
    memset(f, 0xFF, 6);
    memcpy(f + 6, our_mac, 6);
    st16be(f + 12, 0x0806), st16be(f + 14, 1), st16be(f + 16, 0x0800), st16be(f + 18, 0x0604), st16be(f + 20, 1);
    memcpy(f + 22, our_mac, 6);
    st32be(f + 28, 0x0A4D0002), st32be(f + 38, 0x0A4D0001);
    n->want_type = 0x0806;
    CHECK_EQ(send_frame(n, f, 60, false), 1);
    poll_end(n, 1);
    CHECK_EQ(n->frames, 1);
    CHECK_EQ(ld16be(n->last + 20), 2);
    CHECK_EQ(ld32be(n->last + 28), 0x0A4D0001);
    memcpy(kernel_mac, n->last + 22, 6);
    /* ping with 1400 bytes */
    n->want_type = 0x0800;
    size = ip_header(f, 1, 1408);
    f[34] = 8, f[35] = 0, st16be(f + 36, 0), st32be(f + 38, 0x12340001);
    for (i = 42; i < size; i++)
        f[i] = (uint8_t)(i * 7);
    st16be(f + 36, net_checksum(f + 34, 1408, 0));
    CHECK_EQ(send_frame(n, f, size, false), 1);
    poll_end(n, 2);
    CHECK_EQ(n->frames, 2);
    CHECK_EQ(n->last_size, size);
    CHECK_EQ(n->last[34], 0);
    CHECK(!memcmp(n->last + 38, f + 38, 1404));
    /* a datagram whose checksum the kernel (or the cutter) has to fill in; the socket takes only right ones */
    CHECK_EQ(host_socket(&udp, HOST_INET, HOST_DGRAM), 0);
    host_addr_parse("10.77.0.1", &a);
    a.port = 7777;
    CHECK_EQ(host_bind(udp, &a, false), 0);
    size = ip_header(f, 17, 508);
    st16be(f + 34, 5555), st16be(f + 36, 7777), st16be(f + 38, 508);
    memset(f + 42, 0x42, 500);
    st16be(f + 40, net_checksum_fold(net_checksum_add(f + 26, 8, 17 + 508)));
    CHECK_EQ(send_frame(n, f, size, true), 1);
    for (i = 0, r = EMU_EAGAIN; i < 100 && r == EMU_EAGAIN; i++) {
        struct host_poll_item item;
        item.fd = udp, item.want = HOST_READ, item.ready = 0;
        host_poll(&item, 1, 10 * NS_PER_MS);
        r = host_recv_from(udp, n->last, sizeof n->last, &a);
    }
    CHECK_EQ(r, 500);
    CHECK_EQ(a.port, 5555);
    /* and the way back */
    memset(f, 0x24, 900);
    CHECK_EQ(host_send_to(udp, f, 900, &a), 900);
    poll_end(n, 3);
    CHECK_EQ(n->frames, 3);
    CHECK_EQ(n->last_size, 942);
    CHECK_EQ(net_checksum(n->last + 34, 908, net_checksum_fold(net_checksum_add(n->last + 26, 8, 17 + 908))), 0);
    host_fd_close(udp);
    net_destroy(&n->emu);
    clock_destroy(&n->emu);
    free(n);
    remove(script);
}

static bool own_namespace(void)
{
#ifdef __linux__
    static bool done, ok;
    if (!done) {
        done = true;
        ok = !unshare(CLONE_NEWNET) || !unshare(CLONE_NEWUSER | CLONE_NEWNET);
    }
    return ok && !access("/dev/net/tun", R_OK | W_OK);
#else
    return false;
#endif
}

#ifdef __linux__
static struct end *tap_new_end(const char *options, struct err *err)
{
    struct end *n = calloc(1, sizeof *n);
    struct options o;
    int r;
    n->emu.alloc_fn = fake_alloc;
    n->emu.wake_read = n->emu.wake_write = HOST_FD_NONE;
    clock_create(&n->emu);
    n->nic.opaque = n;
    n->nic.receive = nic_receive;
    n->nic.takes_gso = n->nic.takes_csum = true;
    net_port_register(&n->emu, &n->nic);
    r = options_parse(&o, &n->emu, "-netdev", options, "type", err);
    if (!r) {
        r = net_netdev_add(&n->emu, &o, err);
        options_free(&o);
    }
    if (!r)
        r = net_port_connect(&n->nic, net_port_find(&n->emu, "n0"), err);
    if (!r)
        return n;
    net_destroy(&n->emu);
    clock_destroy(&n->emu);
    free(n);
    return NULL;
}

static void tap_free_end(struct end *n)
{
    net_destroy(&n->emu);
    clock_destroy(&n->emu);
    free(n);
}

static void write_script(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    chmod(path, 0755);
}

/* A TCP packet of 3000 bytes at 1000 a segment, its checksum left open, as a NIC with TSO gives it. */
static size_t super_frame(uint8_t *f, const uint8_t *to)
{
    memset(f, 0, 54 + 3000);
    memcpy(f, to, 6);
    f[6] = 2;
    st16be(f + 12, 0x0800);
    f[14] = 0x45;
    st16be(f + 16, 3040);
    f[22] = 64, f[23] = 6;
    st32be(f + 26, 0x0A4D0002), st32be(f + 30, 0x0A4D0063); /* not the host's own: its TCP answers nothing */
    st16be(f + 24, net_checksum(f + 14, 20, 0));
    st16be(f + 34, 1), st16be(f + 36, 2);
    f[46] = 0x50, f[47] = 0x10;
    st16be(f + 50, net_checksum_fold(net_checksum_add(f + 26, 8, 6 + 3020)));
    memset(f + 54, 0x33, 3000);
    return 54 + 3000;
}

/* With vnet_hdr a super-frame crosses whole, to the kernel and from it; without, the kernel gets segments of the right size and sum. */
static void test_super(int *test_failed, bool vnet)
{
    static uint8_t bytes[10 + 4000];
    static const uint8_t guest[6] = { 0x52, 0x54, 0, 0x77, 0, 2 }, all[6] = { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF };
    char script[64], text[200];
    struct sockaddr_ll a;
    struct host_iov piece;
    struct net_frame f;
    struct err err;
    struct end *n;
    int fd, on = 1;
    unsigned i, seen = 0;
    snprintf(script, sizeof script, "/tmp/emu-tap-up-%ld.sh", host_pid());
    write_script(script, "#!/bin/sh\necho 1 > /proc/sys/net/ipv6/conf/$1/disable_ipv6\nip link set $1 up\n");
    snprintf(text, sizeof text, "tap,id=n0,ifname=emutest1,script=%s,downscript=no,vnet_hdr=%s", script, vnet ? "on" : "off");
    n = tap_new_end(text, &err);
    remove(script);
    if (!n) {
        printf("%s\n", err.text);
        SKIP("no tap here");
    }
    fd = socket(AF_PACKET, SOCK_RAW, htons(0x0800));
    memset(&a, 0, sizeof a);
    a.sll_family = AF_PACKET;
    a.sll_protocol = htons(0x0800);
    a.sll_ifindex = (int)if_nametoindex("emutest1");
    CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a));
    memset(&f, 0, sizeof f);
    piece.base = bytes;
    piece.size = super_frame(bytes, all);
    f.pieces = &piece;
    f.count = 1;
    f.size = piece.size;
    f.gso = NET_GSO_TCP4;
    f.gso_size = 1000;
    f.header_bytes = 54;
    f.needs_csum = true;
    f.csum_start = 34;
    f.csum_offset = 16;
    CHECK_EQ(net_send(&n->nic, &f), 1);
    for (i = 0; i < 100 && seen < (vnet ? 1u : 3u); i++) {
        ssize_t size = recv(fd, n->last, sizeof n->last, MSG_DONTWAIT);
        if (size < 0) {
            usleep(10000);
            continue;
        }
        if (size < 54 || n->last[23] != 6)
            continue;
        CHECK_EQ(size, vnet ? 54 + 3000 : 54 + 1000);
        if (!vnet) {
            CHECK_EQ(ld32be(n->last + 38), seen * 1000);
            CHECK_EQ(net_checksum(n->last + 34, 1020, net_checksum_fold(net_checksum_add(n->last + 26, 8, 6 + 1020))), 0);
        }
        seen++;
    }
    CHECK_EQ(seen, vnet ? 1 : 3);
    /* the way back: what a program of the host's sends in one piece */
    CHECK_EQ(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on), 0);
    memset(bytes, 0, 10);
    super_frame(bytes + 10, guest);
    bytes[0] = 1, bytes[1] = 1; /* the header is in the host's byte order */
    {
        uint16_t v[4] = { 54, 1000, 34, 16 };
        memcpy(bytes + 2, v, 8);
    }
    n->want_type = 0x0800;
    CHECK_EQ(sendto(fd, bytes, 10 + 54 + 3000, 0, (struct sockaddr *)&a, sizeof a), 10 + 54 + 3000);
    poll_end(n, vnet ? 1 : 3);
    CHECK_EQ(n->frames, vnet ? 1 : 3);
    CHECK_EQ(n->last_size, vnet ? 54 + 3000 : 54 + 1000);
    if (vnet) {
        CHECK_EQ(n->last_frame.gso, NET_GSO_TCP4);
        CHECK(n->last_frame.gso_size == 1000 && n->last_frame.header_bytes == 54 && n->last_frame.needs_csum);
        CHECK(n->last_frame.csum_start == 34 && n->last_frame.csum_offset == 16);
    } else {
        CHECK_EQ(ld32be(n->last + 38), 2000);
    }
    close(fd);
    tap_free_end(n);
}

TEST(tap_passes_super_frames_whole_with_vnet_headers)
{
    if (!own_namespace())
        SKIP("no network namespace or no /dev/net/tun");
    test_super(test_failed, true);
}

TEST(tap_gets_super_frames_cut_without)
{
    if (!own_namespace())
        SKIP("no network namespace or no /dev/net/tun");
    test_super(test_failed, false);
}

/* downscript= runs at the end with the interface's name, which is there still; script=no and downscript=no run nothing; the interface has one user. */
TEST(tap_runs_its_scripts_and_has_one_user)
{
    char up[64], down[64], told[64], text[300], line[100] = "";
    struct err err;
    struct end *n;
    FILE *f;
    if (!own_namespace())
        SKIP("no network namespace or no /dev/net/tun");
    snprintf(up, sizeof up, "/tmp/emu-tap-up-%ld.sh", host_pid());
    snprintf(down, sizeof down, "/tmp/emu-tap-down-%ld.sh", host_pid());
    snprintf(told, sizeof told, "/tmp/emu-tap-told-%ld", host_pid());
    snprintf(text, sizeof text, "#!/bin/sh\necho up $1 $# >> %s\n", told);
    write_script(up, text);
    snprintf(text, sizeof text, "#!/bin/sh\nip link show $1 > /dev/null && echo down $1 $# >> %s\n", told);
    write_script(down, text);
    remove(told);
    snprintf(text, sizeof text, "tap,id=n0,ifname=emutest2,script=%s,downscript=%s", up, down);
    n = tap_new_end(text, &err);
    if (!n) {
        printf("%s\n", err.text);
        SKIP("no tap here");
    }
    CHECK(!tap_new_end("tap,id=n0,ifname=emutest2,script=no,downscript=no", &err));
    CHECK(strstr(err.text, "emutest2 is in use by another program"));
    tap_free_end(n);
    f = fopen(told, "r");
    CHECK(f);
    line[fread(line, 1, sizeof line - 1, f)] = 0;
    fclose(f);
    CHECK(!strcmp(line, "up emutest2 1\ndown emutest2 1\n"));
    remove(told);
    n = tap_new_end("tap,id=n0,ifname=emutest2,script=no,downscript=no", &err); /* free again */
    CHECK(n);
    tap_free_end(n);
    CHECK(access(told, F_OK));
    remove(up);
    remove(down);
}
#else
TEST(tap_passes_super_frames_whole_with_vnet_headers) { SKIP("needs Linux"); }
TEST(tap_gets_super_frames_cut_without) { SKIP("needs Linux"); }
TEST(tap_runs_its_scripts_and_has_one_user) { SKIP("needs Linux"); }
#endif

TEST(tap_talks_to_the_kernel_with_vnet_headers)
{
    if (!own_namespace())
        SKIP("no network namespace or no /dev/net/tun");
    test_tap(test_failed, "on");
}

TEST(tap_talks_to_the_kernel_without)
{
    if (!own_namespace())
        SKIP("no network namespace or no /dev/net/tun");
    test_tap(test_failed, "off");
}

TEST_MAIN(TEST_CASE(tap_talks_to_the_kernel_with_vnet_headers), TEST_CASE(tap_talks_to_the_kernel_without),
          TEST_CASE(tap_passes_super_frames_whole_with_vnet_headers), TEST_CASE(tap_gets_super_frames_cut_without),
          TEST_CASE(tap_runs_its_scripts_and_has_one_user))
