/* net/icmp.c - ICMP for IPv4: echo, errors; and echo to the outside for both families.
 *
 * Models     RFC 792, RFC 1122 §3.2.2 (what must not be answered with an error), RFC 1812 §4.3, RFC 4443 (errors of IPv6), RFC 5508.
 * Contract   ip.c and ipv6.c deliver; udp.c, tcp.c and ip.c ask for errors.
 * Theory     Echo to our own addresses is answered here. Echo to others goes through an unprivileged ping socket, one per guest and identifier; the host's
 *            kernel puts its own identifier in, so the guest's is put back on the way in. Where the host allows no such sockets, one line
 *            says how to, and the guest is told "administratively prohibited".
 * Invariants 1. No error is sent about an ICMP error, a broadcast or multicast (of IP or of the link), or a fragment that is not the first.
 *            2. An answer has exactly the length of its question (echo) or quotes only bytes that the guest sent (errors).
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#define ICMP_MAX_FLOWS 128u
#define ICMP_IDLE_NS (30 * NS_PER_SEC)

enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO = 8, ICMP_HEADER = 8, ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129 };

struct icmp_flow {
    struct nat *nat;
    struct icmp_flow *next;
    struct nat_addr guest, remote; /* remote: asked last */
    uint16_t id;
    bool v4;
    host_fd fd;
    struct watch watch;
    int ttl;
    int64_t used_host_ns;
};

static void icmp_free(struct icmp_flow *f)
{
    struct nat *n = f->nat;
    struct icmp_flow **at = &n->icmp_list;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    n->icmp_count--;
    if (f->fd != HOST_FD_NONE) {
        watch_remove(n->emu, &f->watch);
        host_fd_close(f->fd);
    }
    emu_free(n->emu, f);
}

/* ---- errors ---- */

struct icmp_kind {
    uint8_t type4, code4, type6, code6;
};

static struct icmp_kind icmp_kind(enum nat_unreach why)
{
    static const struct icmp_kind kinds[] = { /* ORDER nat_unreach */
        { 3, 0, 1, 0 }, { 3, 1, 1, 3 }, { 3, 3, 1, 4 }, { 3, 13, 1, 1 }, { 3, 2, 4, 1 }, { 11, 0, 3, 0 }, { 11, 1, 3, 1 },
    };
    return kinds[why];
}

static void icmp_send_error(struct nat *n, enum nat_unreach why, const struct nat_addr *from, const struct nat_addr *guest, const uint8_t *quote, size_t size,
                            size_t pointer)
{
    struct icmp_kind k = icmp_kind(why);
    bool v4 = nat_is_v4(guest);
    struct nat_addr own = nat_own_addr(n, v4);
    uint8_t *m = n->scratch;
    if (!from || nat_is_v4(from) != v4)
        from = &own;
    size = EMU_MIN(size, v4 ? (size_t)548 : (size_t)1232); /* RFC 1812 §4.3.2.3, RFC 4443 §3.1 */
    memmove(m + ICMP_HEADER, quote, size);
    memset(m, 0, ICMP_HEADER);
    m[0] = v4 ? k.type4 : k.type6;
    m[1] = v4 ? k.code4 : k.code6;
    if (!v4 && why == NAT_UNREACH_PROTO) /* RFC 4443 §3.4: parameter problem, at the next header that nobody knows */
        st32be(m + 4, (uint32_t)pointer);
    nat_send_l4(n, from, guest, v4 ? NAT_PROTO_ICMP : NAT_PROTO_ICMP6, NAT_TTL, NULL, m, ICMP_HEADER + size, 2);
}

EMU_PRIV void icmp_error(struct nat *n, struct pkt *p, enum nat_unreach why)
{
    size_t size = EMU_MIN(p->end - p->l3, p->head_size - p->l3);
    const uint8_t *ip = pkt_bytes(p, p->l3, size), *l4 = p->l4 < p->end ? pkt_bytes(p, p->l4, 1) : NULL;
    uint32_t src = nat_get_v4(&p->src);
    bool v4 = nat_is_v4(&p->src), from_host;
    if (!ip || p->to_all || (p->head[0] & 1)) /* also a multicast of the link's alone */
        return;
    if (!l4 && (v4 || why != NAT_UNREACH_PROTO)) /* a next header that nobody knows may have nothing behind it */
        return;
    if (v4 ? !src || !nat_in_net(n, &p->src) : (p->src.b[0] == 0xFF || !ld64be(p->src.b)))
        return;
    if (v4 && p->proto == NAT_PROTO_ICMP && l4[0] != ICMP_ECHO && l4[0] != 13 && l4[0] != 17)
        return;
    if (!v4 && p->proto == NAT_PROTO_ICMP6 && (!l4 || l4[0] < 128))
        return;
    /* what a host says comes from the address that the datagram went to, what a router says from the router's (RFC 1122 §3.2.2, RFC 4443 §2.2 (a)) */
    from_host = (why == NAT_UNREACH_PORT || why == NAT_UNREACH_PROTO) && nat_is_ours(n, &p->dst);
    icmp_send_error(n, why, from_host ? &p->dst : NULL, &p->src, ip, size, p->proto_at);
}

EMU_PRIV void icmp_error_about(struct nat *n, enum nat_unreach why, const struct nat_addr *from, const struct nat_addr *guest, const struct nat_addr *remote, uint8_t proto,
                               const uint8_t l4[8], size_t l4_bytes)
{
    uint8_t q[NAT_IP6_BYTES + 8];
    memset(q, 0, sizeof q);
    if (nat_is_v4(guest)) {
        q[0] = 0x45;
        st16be(q + 2, (uint16_t)(NAT_IP4_BYTES + l4_bytes));
        q[8] = why == NAT_TTL_EXCEEDED ? 1 : NAT_TTL;
        q[9] = proto;
        memcpy(q + 12, guest->b + 12, 4);
        memcpy(q + 16, remote->b + 12, 4);
        st16be(q + 10, net_checksum(q, NAT_IP4_BYTES, 0));
        memcpy(q + NAT_IP4_BYTES, l4, 8);
        icmp_send_error(n, why, from, guest, q, NAT_IP4_BYTES + 8, 0);
    } else {
        q[0] = 0x60;
        st16be(q + 4, (uint16_t)l4_bytes);
        q[6] = proto;
        q[7] = NAT_TTL;
        memcpy(q + 8, guest->b, 16);
        memcpy(q + 24, remote->b, 16);
        memcpy(q + NAT_IP6_BYTES, l4, 8);
        icmp_send_error(n, why, from, guest, q, sizeof q, 0);
    }
}

/* ---- echo to the outside ---- */

static void icmp_ready(void *opaque, unsigned events)
{
    struct icmp_flow *f = opaque;
    struct nat *n = f->nat;
    int i;
    (void)events;
    for (i = 0; i < 32; i++) {
        struct host_addr from;
        struct host_icmp_error e;
        struct nat_addr src;
        uint8_t *m = n->scratch;
        int got;
        memset(&from, 0, sizeof from);
        got = host_recv_from(f->fd, m, NAT_L4_MAX - NAT_IP6_BYTES, &from);
        if (got < 0) {
            if (host_recv_error(f->fd, &e))
                break;
            if (e.why != HOST_UNREACH_NONE) {
                struct nat_addr remote = nat_from_host(n, &e.to, f->v4), by = nat_from_host(n, &e.by, f->v4);
                st16be(e.data + 4, f->id);
                icmp_error_about(n, e.why == HOST_UNREACH_TTL ? NAT_TTL_EXCEEDED : e.why == HOST_UNREACH_NET ? NAT_UNREACH_NET : NAT_UNREACH_HOST, e.by.family ? &by : NULL,
                                 &f->guest, &remote, f->v4 ? NAT_PROTO_ICMP : NAT_PROTO_ICMP6, e.data, EMU_MAX(e.size, (size_t)8));
            }
            continue;
        }
        if (f->v4 && got > NAT_IP4_BYTES && m[0] >> 4 == 4) { /* some hosts hand out the IP header too */
            int header = (m[0] & 15) * 4;
            if (header >= got)
                continue;
            memmove(m, m + header, (size_t)(got - header));
            got -= header;
        }
        if (got < ICMP_HEADER || m[0] != (f->v4 ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY))
            continue;
        f->used_host_ns = host_clock_ns();
        st16be(m + 4, f->id);
        src = nat_from_host(n, &from, f->v4);
        nat_send_l4(n, &src, &f->guest, f->v4 ? NAT_PROTO_ICMP : NAT_PROTO_ICMP6, NAT_TTL, NULL, m, (size_t)got, 2);
    }
}

static struct icmp_flow *icmp_get(struct nat *n, struct pkt *p, uint16_t id)
{
    bool v4 = nat_is_v4(&p->src);
    struct icmp_flow *f, *oldest = NULL;
    int r;
    for (f = n->icmp_list; f; f = f->next) {
        if (f->id == id && nat_addr_eq(&f->guest, &p->src))
            return f;
        if (!oldest || f->used_host_ns < oldest->used_host_ns)
            oldest = f;
    }
    if (n->icmp_count >= ICMP_MAX_FLOWS)
        icmp_free(oldest);
    f = emu_alloc(n->emu, sizeof *f);
    if (!f)
        return NULL;
    f->nat = n;
    f->guest = p->src;
    f->id = id;
    f->v4 = v4;
    f->ttl = -1;
    r = host_socket(&f->fd, v4 ? HOST_INET : HOST_INET6, HOST_PING);
    if (r < 0) {
        if (v4 || r != EMU_ENOTSUP) /* not where the host has no IPv6 at all */
            emu_log_once(n->emu, &n->said_ping, LOG_NOTICE,
                     "%s: the host lets this user send no ping; on Linux, as root: sysctl net.ipv4.ping_group_range=\"0 2147483647\" (pings of the gateway work without)",
                     n->port.name);
        emu_free(n->emu, f);
        return NULL;
    }
    host_set_option(f->fd, HOST_OPT_RECVERR, 1);
    f->next = n->icmp_list;
    n->icmp_list = f;
    n->icmp_count++;
    watch_add(n->emu, &f->watch, f->fd, HOST_READ, icmp_ready, f);
    return f;
}

EMU_PRIV bool icmp_forward_echo(struct nat *n, struct pkt *p)
{
    size_t size = p->end - p->l4;
    const uint8_t *m = pkt_bytes(p, p->l4, size);
    struct host_addr to;
    struct icmp_flow *f;
    if (!m || size < ICMP_HEADER)
        return false;
    if (!nat_to_host(n, &p->dst, 0, &to)) {
        icmp_error(n, p, n->restricted ? NAT_UNREACH_ADMIN : NAT_UNREACH_HOST);
        return false;
    }
    f = icmp_get(n, p, ld16be(m + 4));
    if (!f) {
        icmp_error(n, p, NAT_UNREACH_ADMIN);
        return false;
    }
    f->remote = p->dst;
    f->used_host_ns = host_clock_ns();
    if (f->ttl != p->ttl && (f->ttl >= 0 || p->ttl < 64)) {
        host_set_option(f->fd, HOST_OPT_TTL, p->ttl > 1 ? p->ttl - 1 : 1);
        f->ttl = p->ttl;
    }
    emu_poll_now(n->emu);
    if (host_send_to(f->fd, m, size, &to) == EMU_EUNREACH)
        icmp_error(n, p, NAT_UNREACH_NET);
    return true;
}

EMU_PRIV void icmp_input(struct nat *n, struct pkt *p)
{
    size_t size = p->end - p->l4;
    const uint8_t *m = pkt_bytes(p, p->l4, size);
    if (!m || size < ICMP_HEADER || (!p->trusted && net_checksum(m, size, 0))) {
        n->bad_packets++;
        return;
    }
    if (m[0] != ICMP_ECHO || p->to_all || !nat_in_net(n, &p->src))
        return;
    if (nat_is_ours(n, &p->dst) || nat_find_guestfwd(n, &p->dst, 0)) {
        memcpy(n->scratch, m, size);
        n->scratch[0] = ICMP_ECHO_REPLY;
        nat_send_l4(n, &p->dst, &p->src, NAT_PROTO_ICMP, NAT_TTL, NULL, n->scratch, size, 2);
        return;
    }
    icmp_forward_echo(n, p);
}

EMU_PRIV void icmp_tick(struct nat *n, int64_t host_now)
{
    struct icmp_flow *f, *next;
    for (f = n->icmp_list; f; f = next) {
        next = f->next;
        if (host_now - f->used_host_ns > ICMP_IDLE_NS)
            icmp_free(f);
    }
}

EMU_PRIV void icmp_destroy(struct nat *n)
{
    while (n->icmp_list)
        icmp_free(n->icmp_list);
}

EMU_PRIV void icmp_print_info(struct nat *n, struct buf *out)
{
    struct icmp_flow *f;
    char text[32], source[64], dest[64];
    int64_t now = host_clock_ns();
    for (f = n->icmp_list; f; f = f->next) {
        snprintf(text, sizeof text, "ICMP[%d sec]", (int)((ICMP_IDLE_NS - (now - f->used_host_ns)) / NS_PER_SEC));
        nat_format(&f->guest, source, sizeof source);
        nat_format(&f->remote, dest, sizeof dest);
        buf_printf(out, "  %-19s %3d %15s %5s %15s %5s %5u %5u\n", text, (int)f->fd, source, "-", dest, "-", 0u, 0u);
    }
}
#undef ICMP_MAX_FLOWS
#undef ICMP_IDLE_NS
