/* net/ipv6.c - IPv6 from the guest, neighbour discovery, router advertisement, stateless DHCPv6.
 *
 * Models     RFC 8200, RFC 4443 (ICMPv6), RFC 4861 and 4862 (neighbours, autoconfiguration, duplicate address detection), RFC 8106 (RDNSS, DNSSL),
 *            RFC 8415 §18.3.9 (INFORMATION-REQUEST), RFC 5722.
 * Contract   nat.c hands in frames; TCP, UDP and reassembly are shared with IPv4; arp.c keeps the neighbours.
 * Theory     We are one router with the link-local address fe80::2 that announces one prefix, itself (unless restricted) and the DNS. Extension headers are walked
 *            with a limit; a fragment header hands over to ip_fragment(), which comes back for those of the whole datagram.
 * Invariants 1. Neighbour and router messages count only with hop limit 255 (RFC 4861 §6.1, §7.1).
 *            2. The walk over extension headers ends after IP6_HEADERS_MAX or at the end of the datagram; fragments do not nest.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#define IP6_LIFETIME_S 1800u
#define IP6_PREFIX_VALID_S 86400u
#define IP6_PREFIX_PREFERRED_S 14400u

enum {
    IP6_HEADERS_MAX = 8,
    ICMP6_RS = 133,
    ICMP6_RA = 134,
    ICMP6_NS = 135,
    ICMP6_NA = 136,
    ICMP6_IS_ECHO = 128,
    ICMP6_IS_ECHO_REPLY = 129,
    DHCP6_INFORMATION_REQUEST = 11,
    DHCP6_REPLY = 7
};

static const uint8_t ip6_all_nodes[16] = { 0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };

static void ip6_multicast_mac(const struct nat_addr *a, uint8_t mac[6])
{
    mac[0] = mac[1] = 0x33; /* RFC 2464 §7 */
    memcpy(mac + 2, a->b + 12, 4);
}

EMU_PRIV void ip6_solicit(struct nat *n, const struct nat_addr *ip)
{
    uint8_t m[32], mac[6];
    struct nat_addr src = nat_v6(n->link6), dst;
    memset(&dst, 0, sizeof dst);
    dst.b[0] = 0xFF; /* solicited-node address: RFC 4291 §2.7.1 */
    dst.b[1] = 2;
    dst.b[11] = 1;
    dst.b[12] = 0xFF;
    memcpy(dst.b + 13, ip->b + 13, 3);
    memset(m, 0, sizeof m);
    m[0] = ICMP6_NS;
    memcpy(m + 8, ip->b, 16);
    m[24] = 1;
    m[25] = 1;
    memcpy(m + 26, n->mac, 6);
    ip6_multicast_mac(&dst, mac);
    nat_send_l4(n, &src, &dst, NAT_PROTO_ICMP6, 255, mac, m, sizeof m, 2);
}

static void ip6_neighbour_advertise(struct nat *n, const struct nat_addr *target, const struct nat_addr *to, const uint8_t *mac)
{
    uint8_t m[32];
    memset(m, 0, sizeof m);
    m[0] = ICMP6_NA;
    m[4] = (uint8_t)((n->restricted ? 0 : 0x80) | (to->b[0] == 0xFF ? 0 : 0x40) | 0x20); /* router, solicited, override */
    memcpy(m + 8, target->b, 16);
    m[24] = 2;
    m[25] = 1;
    memcpy(m + 26, n->mac, 6);
    nat_send_l4(n, target, to, NAT_PROTO_ICMP6, 255, mac, m, sizeof m, 2);
}

EMU_PRIV void ip6_advertise(struct nat *n)
{
    uint8_t m[512], mac[6];
    struct nat_addr src = nat_v6(n->link6), dst = nat_v6(ip6_all_nodes);
    size_t size = 16;
    memset(m, 0, sizeof m);
    m[0] = ICMP6_RA;
    m[4] = 64;
    m[5] = 0x40; /* other configuration by DHCPv6 */
    st16be(m + 6, n->restricted ? 0 : IP6_LIFETIME_S);
    m[size] = 1; /* source link-layer address */
    m[size + 1] = 1;
    memcpy(m + size + 2, n->mac, 6);
    size += 8;
    m[size] = 5; /* MTU */
    m[size + 1] = 1;
    st32be(m + size + 4, n->mtu);
    size += 8;
    m[size] = 3; /* prefix: on link, autonomous where it has 64 bits */
    m[size + 1] = 4;
    m[size + 2] = (uint8_t)n->prefix6;
    m[size + 3] = (uint8_t)(0x80 | (n->prefix6 == 64 ? 0x40 : 0));
    st32be(m + size + 4, IP6_PREFIX_VALID_S);
    st32be(m + size + 8, IP6_PREFIX_PREFERRED_S);
    memcpy(m + size + 16, n->net6, 16);
    size += 32;
    if (!n->restricted) {
        m[size] = 25; /* RDNSS */
        m[size + 1] = 3;
        st32be(m + size + 4, IP6_LIFETIME_S);
        memcpy(m + size + 8, n->dns6, 16);
        size += 24;
    }
    if (n->search && n->search_size <= 240) {
        size_t padded = (n->search_size + 7) & ~(size_t)7;
        m[size] = 31; /* DNSSL */
        m[size + 1] = (uint8_t)(1 + padded / 8);
        st32be(m + size + 4, IP6_LIFETIME_S);
        memcpy(m + size + 8, n->search, n->search_size);
        size += 8 + padded;
    }
    ip6_multicast_mac(&dst, mac);
    nat_send_l4(n, &src, &dst, NAT_PROTO_ICMP6, 255, mac, m, size, 2);
}

EMU_PRIV void ip6_start(struct nat *n) { n->ra_left = 3; }

/* The source or target link-layer address option; NULL: none. */
static const uint8_t *ip6_link_option(const uint8_t *m, size_t size, size_t at, uint8_t kind)
{
    while (size - at >= 8 && at <= size) {
        size_t length = (size_t)m[at + 1] * 8;
        if (!length || length > size - at)
            return NULL;
        if (m[at] == kind)
            return m + at + 2;
        at += length;
    }
    return NULL;
}

static bool ip6_unspecified(const struct nat_addr *a) { return !ld64be(a->b) && !ld64be(a->b + 8); }
static bool ip6_loopback(const struct nat_addr *a) { return !ld64be(a->b) && ld64be(a->b + 8) == 1; }

static void ip6_neighbour_solicited(struct nat *n, struct pkt *p, const uint8_t *m, size_t size)
{
    struct nat_addr target, all = nat_v6(ip6_all_nodes);
    uint8_t mac[6];
    if (size < 24)
        return;
    target = nat_v6(m + 8);
    if (!nat_is_ours(n, &target) && !nat_find_guestfwd(n, &target, 0))
        return;
    if (ip6_unspecified(&p->src)) { /* somebody is about to take our address */
        ip6_multicast_mac(&all, mac);
        ip6_neighbour_advertise(n, &target, &all, mac);
    } else {
        ip6_neighbour_advertise(n, &target, &p->src, p->src_mac);
    }
}

EMU_PRIV void icmp6_input(struct nat *n, struct pkt *p)
{
    size_t size = p->end - p->l4;
    const uint8_t *m = pkt_bytes(p, p->l4, size), *link;
    struct nat_addr about;
    if (!m || size < 8 || !pkt_l4_sum_ok(p)) {
        n->bad_packets++;
        return;
    }
    switch (m[0]) {
    case ICMP6_RS:
        if (p->ttl == 255)
            ip6_advertise(n);
        break;
    case ICMP6_NS:
        if (p->ttl == 255 && !m[1])
            ip6_neighbour_solicited(n, p, m, size);
        break;
    case ICMP6_NA:
        if (p->ttl != 255 || size < 24)
            break;
        about = nat_v6(m + 8);
        link = ip6_link_option(m, size, 24, 2);
        if (link)
            arp_learn(n, &about, link);
        break;
    case ICMP6_IS_ECHO:
        if (p->to_all || ip6_unspecified(&p->src))
            break;
        if (nat_is_ours(n, &p->dst) || nat_find_guestfwd(n, &p->dst, 0)) {
            memcpy(n->scratch, m, size);
            n->scratch[0] = ICMP6_IS_ECHO_REPLY;
            nat_send_l4(n, &p->dst, &p->src, NAT_PROTO_ICMP6, NAT_TTL, NULL, n->scratch, size, 2);
        } else {
            icmp_forward_echo(n, p);
        }
        break;
    default: break;
    }
}

EMU_PRIV bool ip6_dhcp(struct nat *n, struct pkt *p)
{
    size_t size = p->end - p->l4 - 8, i, length, at = 4;
    const uint8_t *m = pkt_bytes(p, p->l4 + 8, size);
    struct nat_addr src = nat_v6(n->link6);
    uint8_t r[512];
    bool link_local = p->src.b[0] == 0xFE && (p->src.b[1] & 0xC0) == 0x80;
    if (!m || size < 4 || !link_local)
        return false;
    if (m[0] != DHCP6_INFORMATION_REQUEST)
        return true;
    memset(r, 0, sizeof r);
    memcpy(r, m, 4);
    r[0] = DHCP6_REPLY;
    for (i = 4; size - i >= 4 && i <= size; i += 4 + length) {
        length = ld16be(m + i + 2);
        if (length > size - i - 4)
            break;
        if (ld16be(m + i) == 1 && length <= 130 && at == 4) { /* the client's identifier comes back */
            memcpy(r + at, m + i, 4 + length);
            at += 4 + length;
        }
    }
    st16be(r + at, 2); /* ours: DUID-LL */
    st16be(r + at + 2, 10);
    st16be(r + at + 4, 3);
    st16be(r + at + 6, 1);
    memcpy(r + at + 8, n->mac, 6);
    at += 14;
    if (!n->restricted) {
        st16be(r + at, 23);
        st16be(r + at + 2, 16);
        memcpy(r + at + 4, n->dns6, 16);
        at += 20;
    }
    if (n->search && at + 4 + n->search_size <= sizeof r) {
        st16be(r + at, 24);
        st16be(r + at + 2, (uint16_t)n->search_size);
        memcpy(r + at + 4, n->search, n->search_size);
        at += 4 + n->search_size;
    }
    udp_send(n, &src, 547, &p->src, 546, p->src_mac, r, at);
    return true;
}

/* ---- the header and its extensions ---- */

EMU_PRIV void ip6_headers(struct nat *n, struct pkt *p, uint8_t next, bool whole)
{
    const uint8_t *h;
    unsigned headers;
    p->proto_at = 6;
    for (headers = 0; headers < IP6_HEADERS_MAX; headers++) {
        size_t size;
        if (next != 0 && next != 43 && next != 44 && next != 60)
            break;
        h = pkt_bytes(p, p->l4, 8);
        if (!h || p->end - p->l4 < 8)
            return;
        p->proto_at = p->l4 - p->l3;
        if (next == 44) {
            unsigned field = ld16be(h + 2);
            uint32_t id = ld32be(h + 4);
            p->proto = h[0];
            p->l4 += 8;
            if (field & ~6u) {
                if (!whole)
                    ip_fragment(n, p, id, field & 0xFFF8, (field & 1) != 0);
                return;
            }
            next = h[0]; /* an atomic fragment: RFC 6946 */
            continue;
        }
        size = ((size_t)h[1] + 1) * 8;
        if (size > p->end - p->l4 || (next == 43 && h[3])) /* no source routing */
            return;
        next = h[0];
        p->l4 += size;
    }
    if (headers == IP6_HEADERS_MAX || next == NAT_IP6_NO_NEXT)
        return;
    p->proto = next;
    ip_deliver(n, p);
}

EMU_PRIV void ip6_input(struct nat *n, struct pkt *p)
{
    const uint8_t *ip = pkt_bytes(p, p->l3, NAT_IP6_BYTES);
    size_t total;
    struct nat_addr mapped;
    if (!n->ip6 || !ip || ip[0] >> 4 != 6)
        return;
    total = ld16be(ip + 4);
    if (p->frame->gso != NET_GSO_NONE)
        total = p->size - p->l3 - NAT_IP6_BYTES;
    if (total > p->size - p->l3 - NAT_IP6_BYTES) {
        n->bad_packets++;
        return;
    }
    p->src = nat_v6(ip + 8);
    p->dst = nat_v6(ip + 24);
    p->ttl = ip[7];
    p->tos = (uint8_t)(ip[0] << 4 | ip[1] >> 4);
    p->l4 = p->l3 + NAT_IP6_BYTES;
    p->end = p->l4 + total;
    p->to_all = p->dst.b[0] == 0xFF;
    mapped = p->dst;
    if (p->src.b[0] == 0xFF || nat_is_v4(&p->src) || nat_is_v4(&mapped)) /* mapped addresses must not appear on a wire, and are IPv4's here */
        return;
    if (ip6_unspecified(&p->dst) || ip6_loopback(&p->dst) || ip6_loopback(&p->src)) /* RFC 4291 §2.5.2, §2.5.3 */
        return;
    if (!ip6_unspecified(&p->src))
        arp_learn(n, &p->src, p->src_mac);
    ip6_headers(n, p, ip[6], false);
}
#undef IP6_LIFETIME_S
#undef IP6_PREFIX_VALID_S
#undef IP6_PREFIX_PREFERRED_S
