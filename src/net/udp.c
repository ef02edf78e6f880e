/* net/udp.c - UDP from and to the guest.
 *
 * Models     RFC 768; RFC 4787 (NAT behaviour: endpoint-independent mapping and filtering, 5 minutes idle).
 * Contract   ip.c delivers whole datagrams; dhcp.c, dns.c, tftp.c and ipv6.c get theirs from here; hostfwd sockets report in udp_forwarded().
 * Theory     Each endpoint of the guest's (address, port, family) owns one unconnected host socket for everything it sends, so that peers see one
 *            source port. Answers are sent to the guest from the address that the host's kernel names. A datagram that came in through a hostfwd socket
 *            leaves a record (guest endpoint and peer), so that the guest's answer to that peer goes back through the same socket.
 *            What the host's network says about a datagram (IP_RECVERR) becomes the same ICMP message for the guest.
 * Invariants 1. At most UDP_MAX_FLOWS sockets; the one idle longest goes first.
 *            2. A round reads at most UDP_BURST datagrams of one socket.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#ifdef EMU_TORTURE
#define UDP_MAX_FLOWS 8u
#else
#define UDP_MAX_FLOWS 2048u
#endif
#define UDP_IDLE_NS (300 * NS_PER_SEC) /* RFC 4787 REQ-5 */
#define UDP_BURST 64
#define UDP_HEADER 8u

struct udp_flow {
    struct nat *nat;
    struct udp_flow *hash_next, *next, **link;
    struct nat_addr guest, remote; /* remote: of a hostfwd record */
    uint16_t guest_port, remote_port;
    struct nat_hostfwd *fwd; /* this is a record, without a socket of its own */
    struct host_addr peer;
    host_fd fd;
    struct watch watch;
    int ttl;
    int64_t used_host_ns;
    unsigned bucket;
};

/* Of a socket (remote NULL) or of a hostfwd record. */
static unsigned udp_bucket(struct nat *n, const struct nat_addr *guest, uint16_t port, const struct nat_addr *remote, uint16_t remote_port)
{
    uint8_t key[36];
    size_t size = 18;
    memcpy(key, guest->b, 16);
    st16be(key + 16, port);
    if (remote) {
        memcpy(key + 18, remote->b, 16);
        st16be(key + 34, remote_port);
        size = sizeof key;
    }
    return (unsigned)(nat_siphash(n->secret, key, size) % NAT_HASH);
}

static void udp_free(struct udp_flow *f)
{
    struct nat *n = f->nat;
    struct udp_flow **at = &n->udp_hash[f->bucket];
    while (*at != f)
        at = &(*at)->hash_next;
    *at = f->hash_next;
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    n->udp_count--;
    if (f->fd != HOST_FD_NONE) {
        watch_remove(n->emu, &f->watch);
        host_fd_close(f->fd);
    }
    emu_free(n->emu, f);
}

static void udp_free_oldest(struct nat *n)
{
    struct udp_flow *f, *oldest = n->udp_list;
    for (f = n->udp_list; f; f = f->next)
        if (f->used_host_ns < oldest->used_host_ns)
            oldest = f;
    if (oldest)
        udp_free(oldest);
}

static struct udp_flow *udp_new(struct nat *n, const struct nat_addr *guest, uint16_t port, const struct nat_addr *remote, uint16_t remote_port)
{
    struct udp_flow *f;
    if (n->udp_count >= UDP_MAX_FLOWS)
        udp_free_oldest(n);
    f = emu_alloc(n->emu, sizeof *f);
    if (!f)
        return NULL;
    f->nat = n;
    f->guest = *guest;
    f->guest_port = port;
    if (remote) {
        f->remote = *remote;
        f->remote_port = remote_port;
    }
    f->fd = HOST_FD_NONE;
    f->ttl = -1;
    f->used_host_ns = host_clock_ns();
    f->bucket = udp_bucket(n, guest, port, remote, remote_port);
    f->hash_next = n->udp_hash[f->bucket];
    n->udp_hash[f->bucket] = f;
    f->next = n->udp_list;
    f->link = &n->udp_list;
    if (f->next)
        f->next->link = &f->next;
    n->udp_list = f;
    n->udp_count++;
    return f;
}

static struct udp_flow *udp_find(struct nat *n, const struct nat_addr *guest, uint16_t port, const struct nat_addr *remote, uint16_t remote_port)
{
    struct udp_flow *f;
    for (f = n->udp_hash[udp_bucket(n, guest, port, remote, remote_port)]; f; f = f->hash_next)
        if (f->guest_port == port && nat_addr_eq(&f->guest, guest) && (remote ? f->fwd && f->remote_port == remote_port && nat_addr_eq(&f->remote, remote) : !f->fwd))
            return f;
    return NULL;
}

/* The datagram stands at n->scratch + UDP_HEADER already. */
static void udp_send_scratch(struct nat *n, const struct nat_addr *src, uint16_t src_port, const struct nat_addr *dst, uint16_t dst_port, const uint8_t *dst_mac, size_t size)
{
    if (size > NAT_L4_MAX - UDP_HEADER)
        return;
    st16be(n->scratch, src_port);
    st16be(n->scratch + 2, dst_port);
    st16be(n->scratch + 4, (uint16_t)(UDP_HEADER + size));
    nat_send_l4(n, src, dst, NAT_PROTO_UDP, NAT_TTL, dst_mac, n->scratch, UDP_HEADER + size, 6);
}

EMU_PRIV void udp_send(struct nat *n, const struct nat_addr *src, uint16_t src_port, const struct nat_addr *dst, uint16_t dst_port, const uint8_t *dst_mac, const void *data, size_t size)
{
    if (size > NAT_L4_MAX - UDP_HEADER)
        return;
    memmove(n->scratch + UDP_HEADER, data, size);
    udp_send_scratch(n, src, src_port, dst, dst_port, dst_mac, size);
}

static enum nat_unreach udp_why(enum host_unreach why)
{
    switch (why) {
    case HOST_UNREACH_NET: return NAT_UNREACH_NET;
    case HOST_UNREACH_PORT: return NAT_UNREACH_PORT;
    case HOST_UNREACH_ADMIN: return NAT_UNREACH_ADMIN;
    case HOST_UNREACH_TTL: return NAT_TTL_EXCEEDED;
    default: return NAT_UNREACH_HOST;
    }
}

static void udp_errors(struct udp_flow *f)
{
    struct host_icmp_error e;
    int i;
    for (i = 0; i < UDP_BURST && !host_recv_error(f->fd, &e); i++) {
        struct nat_addr remote = nat_from_host(f->nat, &e.to, nat_is_v4(&f->guest)), by = nat_from_host(f->nat, &e.by, nat_is_v4(&f->guest));
        uint8_t quote[8];
        if (e.why == HOST_UNREACH_NONE)
            continue;
        st16be(quote, f->guest_port);
        st16be(quote + 2, e.to.port);
        st16be(quote + 4, (uint16_t)(UDP_HEADER + e.size));
        st16be(quote + 6, 0);
        icmp_error_about(f->nat, udp_why(e.why), e.by.family ? &by : NULL, &f->guest, &remote, NAT_PROTO_UDP, quote, UDP_HEADER + e.size);
    }
}

static void udp_ready(void *opaque, unsigned events)
{
    struct udp_flow *f = opaque;
    struct nat *n = f->nat;
    int i;
    if (events & HOST_ERROR)
        udp_errors(f);
    for (i = 0; i < UDP_BURST; i++) {
        struct host_addr from;
        struct nat_addr src;
        int got;
        memset(&from, 0, sizeof from);
        got = host_recv_from(f->fd, n->scratch + UDP_HEADER, NAT_L4_MAX, &from);
        if (got == EMU_EAGAIN)
            break;
        if (got < 0) {
            udp_errors(f);
            break;
        }
        f->used_host_ns = host_clock_ns();
        src = nat_from_host(n, &from, nat_is_v4(&f->guest));
        udp_send_scratch(n, &src, from.port, &f->guest, f->guest_port, NULL, (size_t)got);
    }
}

EMU_PRIV void udp_forwarded(struct nat *n, struct nat_hostfwd *fwd)
{
    struct nat_addr guest = fwd->guest, zero;
    int i;
    memset(&zero, 0, sizeof zero);
    if (nat_addr_eq(&guest, &zero))
        guest = nat_first_guest(n);
    for (i = 0; i < UDP_BURST; i++) {
        struct host_addr from;
        struct nat_addr src;
        struct udp_flow *f;
        int got;
        memset(&from, 0, sizeof from);
        got = host_recv_from(fwd->fd, n->scratch + UDP_HEADER, NAT_L4_MAX, &from);
        if (got < 0)
            break;
        src = nat_from_host(n, &from, nat_is_v4(&guest));
        f = udp_find(n, &guest, fwd->guest_port, &src, from.port);
        if (!f) {
            f = udp_new(n, &guest, fwd->guest_port, &src, from.port);
            if (!f)
                continue;
        }
        f->fwd = fwd;
        f->peer = from;
        f->used_host_ns = host_clock_ns();
        udp_send_scratch(n, &src, from.port, &guest, fwd->guest_port, NULL, (size_t)got);
    }
}

static void udp_forward(struct nat *n, struct pkt *p, uint16_t guest_port, uint16_t port, const uint8_t *data, size_t size)
{
    struct udp_flow *f = n->hostfwds ? udp_find(n, &p->src, guest_port, &p->dst, port) : NULL;
    struct host_addr to;
    int r, tries;
    emu_poll_now(n->emu);
    if (f) {
        f->used_host_ns = host_clock_ns();
        host_send_to(f->fwd->fd, data, size, &f->peer);
        return;
    }
    if (!nat_to_host(n, &p->dst, port, &to)) {
        icmp_error(n, p, n->restricted ? NAT_UNREACH_ADMIN : nat_is_ours(n, &p->dst) ? NAT_UNREACH_PORT : NAT_UNREACH_HOST);
        return;
    }
    f = udp_find(n, &p->src, guest_port, NULL, 0);
    if (!f) {
        struct host_addr any;
        f = udp_new(n, &p->src, guest_port, NULL, 0);
        if (!f)
            return;
        memset(&any, 0, sizeof any);
        any.family = to.family;
        r = host_socket(&f->fd, to.family, HOST_DGRAM);
        if (r == 0 && (r = host_bind(f->fd, &any, false)) < 0) {
            host_fd_close(f->fd);
            f->fd = HOST_FD_NONE;
        }
        if (r < 0) {
            f->fd = HOST_FD_NONE;
            udp_free(f);
            if (r != EMU_ENOTSUP) /* a host without IPv6 */
                nat_no_descriptors(n);
            icmp_error(n, p, NAT_UNREACH_HOST);
            return;
        }
        host_set_option(f->fd, HOST_OPT_RECVERR, 1);
        host_set_option(f->fd, HOST_OPT_BROADCAST, 1);
        host_set_option(f->fd, HOST_OPT_RCVBUF, 1 << 20);
        watch_add(n->emu, &f->watch, f->fd, HOST_READ, udp_ready, f);
    }
    f->used_host_ns = host_clock_ns();
    if (f->ttl != p->ttl && (f->ttl >= 0 || p->ttl < 64)) {
        host_set_option(f->fd, HOST_OPT_TTL, p->ttl > 1 ? p->ttl - 1 : 1);
        f->ttl = p->ttl;
    }
    for (tries = 0; tries < 3; tries++) {
        r = host_send_to(f->fd, data, size, &to);
        if (r >= 0 || r == EMU_EAGAIN || r == EMU_EMSGSIZE)
            return;
        udp_errors(f); /* a waiting error of an earlier datagram is reported by the next call */
    }
    icmp_error(n, p, r == EMU_ECONNREFUSED ? NAT_UNREACH_PORT : r == EMU_EACCES ? NAT_UNREACH_ADMIN : NAT_UNREACH_NET);
}

EMU_PRIV void udp_input(struct nat *n, struct pkt *p)
{
    const uint8_t *u = pkt_bytes(p, p->l4, UDP_HEADER), *data;
    struct nat_addr dns = nat_is_v4(&p->dst) ? nat_v4(n->dns4) : nat_v6(n->dns6);
    uint16_t guest_port, port;
    size_t size;
    bool v4 = nat_is_v4(&p->dst);
    if (!u || p->end - p->l4 < UDP_HEADER || (size = ld16be(u + 4)) < UDP_HEADER || size > p->end - p->l4) {
        n->bad_packets++;
        return;
    }
    p->end = p->l4 + size; /* what stands behind it does not count */
    size -= UDP_HEADER;
    if ((ld16be(u + 6) || !v4) && !pkt_l4_sum_ok(p)) {
        n->bad_packets++;
        return;
    }
    guest_port = ld16be(u);
    port = ld16be(u + 2);
    data = pkt_bytes(p, p->l4 + UDP_HEADER, size);
    if (!data || !port || !guest_port) {
        n->bad_packets++;
        return;
    }
    if (v4 && port == 67) {
        dhcp_input(n, p, data, size);
        return;
    }
    if (!v4 && port == 547 && ip6_dhcp(n, p))
        return;
    if (!nat_is_v4(&p->src) != !v4 || (v4 && !nat_get_v4(&p->src)))
        return;
    if (port == 53 && !n->restricted && nat_addr_eq(&p->dst, &dns)) {
        dns_input(n, p, guest_port, data, size);
        return;
    }
    if (tftp_input(n, p, guest_port, port, data, size))
        return;
    if (!p->to_all)
        udp_forward(n, p, guest_port, port, data, size);
}

EMU_PRIV void udp_tick(struct nat *n, int64_t host_now)
{
    struct udp_flow *f, *next;
    for (f = n->udp_list; f; f = next) {
        next = f->next;
        if (host_now - f->used_host_ns > UDP_IDLE_NS)
            udp_free(f);
    }
}

EMU_PRIV void udp_forget(struct nat *n, struct nat_hostfwd *fwd)
{
    struct udp_flow *f, *next;
    for (f = n->udp_list; f; f = next) {
        next = f->next;
        if (f->fwd == fwd)
            udp_free(f);
    }
}

EMU_PRIV void udp_destroy(struct nat *n)
{
    while (n->udp_list)
        udp_free(n->udp_list);
}

EMU_PRIV void udp_print_info(struct nat *n, struct buf *out)
{
    struct udp_flow *f;
    char text[32], source[64], dest[64];
    int64_t now = host_clock_ns();
    for (f = n->udp_list; f; f = f->next) {
        snprintf(text, sizeof text, "UDP[%d sec]", (int)((UDP_IDLE_NS - (now - f->used_host_ns)) / NS_PER_SEC));
        nat_format(&f->guest, source, sizeof source);
        nat_format(&f->remote, dest, sizeof dest);
        buf_printf(out, "  %-19s %3d %15s %5u %15s %5u %5u %5u\n", text, (int)(f->fwd ? f->fwd->fd : f->fd), source, f->guest_port, f->fwd ? dest : "*", f->remote_port, 0u, 0u);
    }
}
#undef UDP_MAX_FLOWS
#undef UDP_IDLE_NS
#undef UDP_BURST
#undef UDP_HEADER
