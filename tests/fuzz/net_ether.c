/* net_ether.c - libFuzzer: frames from the guest into the user network. Input: repeated (16-bit length, flags, frame).
 *
 * The first bit of flags asks for right checksums and our MAC, so that mutation gets behind them; virtual time moves with the second.
 * Outside connections go nowhere: restrict=on, with TFTP of /dev's folder kept away by an empty one, a guestfwd to cat, and a hostfwd.
 */
#include "machine.h"
#include "net/net.h"
#include "net/nat.h"

static int sink(struct net_port *p, const struct net_frame *f)
{
    static uint8_t b[70000];
    (void)p;
    net_frame_copy(f, 0, b, sizeof b);
    return 1;
}

static void repair(uint8_t *f, size_t size)
{
    size_t header, total;
    if (size < 34)
        return;
    f[0] = 0x52;
    f[1] = 0x55;
    st32be(f + 2, UINT32_C(0x0A000202));
    f[6] &= 0xFE;
    if (ld16be(f + 12) == 0x0800) {
        header = (size_t)(f[14] & 15) * 4;
        total = ld16be(f + 16);
        if (header < 20 || 14 + header > size)
            return;
        st16be(f + 24, 0);
        st16be(f + 24, net_checksum(f + 14, header, 0));
        if (total < header + 8 || 14 + total > size)
            return;
        if (f[23] == 1) {
            st16be(f + 14 + header + 2, 0);
            st16be(f + 14 + header + 2, net_checksum(f + 14 + header, total - header, 0));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct emu *e = emu_new(NULL);
    struct net_port port, *nat;
    struct options o;
    struct err err;
    size_t at = 0;
    if (!e || clock_create(e))
        return 0;
    e->config.icount = true;
    e->config.seed_set = true;
    memset(&port, 0, sizeof port);
    port.receive = sink;
    port.takes_gso = port.takes_csum = true;
    net_port_register(e, &port);
    if (options_parse(&o, e, "-netdev", "user,restrict=on,tftp=/proc/self/task,guestfwd=tcp:10.0.2.100:7-null,hostname=h,dnssearch=a.b", "type", &err) ||
        netdev_user_create(e, "n", &o, &nat, &err))
        abort();
    options_free(&o);
    net_port_connect(&port, nat, &err);
    while (at + 3 <= size) {
        size_t n = ld16be(data + at) & 0x7FF;
        uint8_t flags = data[at + 2], *copy;
        struct host_iov v;
        struct net_frame f;
        at += 3;
        n = EMU_MIN(n, size - at);
        copy = malloc(n ? n : 1);
        memcpy(copy, data + at, n);
        at += n;
        if (flags & 1)
            repair(copy, n);
        memset(&f, 0, sizeof f);
        v.base = copy;
        v.size = n;
        f.pieces = &v;
        f.count = 1;
        f.size = n;
        f.csum_valid = (flags & 4) != 0;
        net_send(&port, &f);
        free(copy);
        clock_run_timers(e);
        if (flags & 2) {
            clock_warp_to(e, emu_now_ns(e) + (int64_t)(flags >> 3) * 100 * NS_PER_MS);
            clock_run_timers(e);
        }
        if (!tcp_check(e->nats))
            abort();
    }
    nat->destroy(nat);
    net_port_unregister(e, &port);
    emu_destroy(e);
    return 0;
}
