/* net_tftp.c - libFuzzer: TFTP datagrams of the guest's. Input: repeated (length byte, which port, datagram). */
#include "machine.h"
#include "net/net.h"
#include "net/nat.h"

static uint16_t last_port;
static int sink(struct net_port *p, const struct net_frame *f)
{
    uint8_t b[64];
    (void)p;
    if (net_frame_copy(f, 0, b, sizeof b) >= 44 && b[23] == 17)
        last_port = ld16be(b + 34);
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct emu *e = emu_new(NULL);
    struct net_port port, *nat;
    struct options o;
    struct err err;
    struct pkt p;
    size_t at = 0;
    static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
    if (!e || clock_create(e))
        return 0;
    e->config.icount = true;
    e->config.seed_set = true;
    memset(&port, 0, sizeof port);
    port.receive = sink;
    net_port_register(e, &port);
    if (options_parse(&o, e, "-netdev", "user,tftp=/usr/include/linux", "type", &err) || netdev_user_create(e, "n", &o, &nat, &err))
        abort();
    options_free(&o);
    net_port_connect(&port, nat, &err);
    memset(&p, 0, sizeof p);
    p.src = nat_v4(UINT32_C(0x0A00020F));
    p.dst = nat_v4(e->nats->host4);
    arp_learn(e->nats, &p.src, mac);
    while (at + 2 <= size) {
        size_t n = EMU_MIN((size_t)data[at], size - at - 2);
        uint16_t to = data[at + 1] & 1 ? last_port : 69;
        uint8_t *copy = malloc(n ? n : 1);
        memcpy(copy, data + at + 2, n);
        tftp_input(e->nats, &p, (uint16_t)(1000 + (data[at + 1] >> 4)), to, copy, n);
        free(copy);
        if (data[at + 1] & 2) {
            clock_warp_to(e, emu_now_ns(e) + NS_PER_SEC);
            clock_run_timers(e);
        }
        at += 2 + n;
    }
    nat->destroy(nat);
    net_port_unregister(e, &port);
    emu_destroy(e);
    return 0;
}
