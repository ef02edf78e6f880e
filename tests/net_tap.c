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
#include <sys/stat.h>
#include <unistd.h>
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

TEST_MAIN(TEST_CASE(tap_talks_to_the_kernel_with_vnet_headers), TEST_CASE(tap_talks_to_the_kernel_without))
