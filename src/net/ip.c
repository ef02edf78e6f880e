/* net/ip.c - IPv4 from the guest, and reassembly for both families.
 *
 * Models     RFC 791, RFC 1122 §3.2-3.3, RFC 1812 §4-5 (a router's view), RFC 815's hole idea kept as a list of ranges, RFC 5722 and RFC 8200 §4.5
 *            (an overlap kills the datagram), RFC 1858.
 * Contract   nat.c hands frames to ip_input(); ipv6.c shares ip_fragment() and ip_deliver().
 * Theory     A datagram under reassembly owns one buffer that grows to what its fragments cover, and a short sorted list of covered ranges.
 *            There are IP_REASSEMBLIES places; the oldest goes when all are taken. 30 s after its first fragment one ends with
 *            ICMP time exceeded, if its first fragment was seen.
 * Invariants 1. 0 <= range[i].from < range[i].to < range[i+1].from: sorted, joined, within capacity.
 *            2. p->l3 < p->l4 <= p->end <= p->size for every packet that reaches ip_deliver(), and all of it is inside pkt_bytes()'s reach
 *               except TCP payload.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#define IP_REASSEMBLY_NS (30 * NS_PER_SEC) /* RFC 1122 §3.3.2: between 60 and 120 s; half of it here, since the path is one cable */

EMU_PRIV void ip_deliver(struct nat *n, struct pkt *p)
{
    bool v4 = nat_is_v4(&p->dst);
    if (p->ttl <= 1 && !p->to_all && !nat_is_ours(n, &p->dst) && !nat_in_net(n, &p->dst)) {
        if (pkt_flatten(n, p))
            icmp_error(n, p, NAT_TTL_EXCEEDED);
        return;
    }
    if (p->proto == NAT_PROTO_TCP && !p->to_all) {
        tcp_input(n, p);
        return;
    }
    if (!pkt_flatten(n, p))
        return;
    if (p->proto == NAT_PROTO_UDP)
        udp_input(n, p);
    else if (p->proto == NAT_PROTO_ICMP && v4)
        icmp_input(n, p);
    else if (p->proto == NAT_PROTO_ICMP6 && !v4)
        icmp6_input(n, p);
    else if (v4 || p->proto != NAT_IP6_NO_NEXT) /* each other's ICMP is unknown too */
        icmp_error(n, p, NAT_UNREACH_PROTO);
}

/* ---- reassembly ---- */

static void ip_reassembly_free(struct nat *n, struct ip_reassembly *r)
{
    emu_free(n->emu, r->bytes);
    memset(r, 0, sizeof *r);
}

static struct ip_reassembly *ip_reassembly_get(struct nat *n, struct pkt *p, uint32_t id)
{
    struct ip_reassembly *oldest = NULL, *r;
    unsigned i;
    for (i = 0; i < IP_REASSEMBLIES; i++) {
        r = &n->reassembly[i];
        if (r->used && r->id == id && r->proto == p->proto && nat_addr_eq(&r->src, &p->src) && nat_addr_eq(&r->dst, &p->dst))
            return r;
    }
    for (i = 0; i < IP_REASSEMBLIES; i++) {
        r = &n->reassembly[i];
        if (!r->used) {
            oldest = r;
            break;
        }
        if (!oldest || r->started_ns < oldest->started_ns)
            oldest = r;
    }
    ip_reassembly_free(n, oldest);
    oldest->used = true;
    oldest->src = p->src;
    oldest->dst = p->dst;
    oldest->proto = p->proto;
    oldest->id = id;
    oldest->ttl = p->ttl;
    oldest->started_ns = emu_now_ns(n->emu);
    return oldest;
}

/* Adds [from, to); false: overlaps what is there, or too many pieces. */
static bool ip_reassembly_add(struct ip_reassembly *r, uint32_t from, uint32_t to)
{
    unsigned i = 0;
    while (i < r->ranges && r->range[i].to < from)
        i++;
    if (i < r->ranges && r->range[i].to == from) { /* grows this one */
        if (i + 1 < r->ranges && r->range[i + 1].from < to)
            return false;
        r->range[i].to = to;
        if (i + 1 < r->ranges && r->range[i + 1].from == to) {
            r->range[i].to = r->range[i + 1].to;
            r->ranges--;
            memmove(&r->range[i + 1], &r->range[i + 2], (r->ranges - i - 1) * sizeof r->range[0]);
        }
        return true;
    }
    if (i < r->ranges && r->range[i].from < to)
        return false;
    if (i < r->ranges && r->range[i].from == to) {
        r->range[i].from = from;
        return true;
    }
    if (r->ranges == IP_HOLES)
        return false;
    memmove(&r->range[i + 1], &r->range[i], (r->ranges - i) * sizeof r->range[0]);
    r->range[i].from = from;
    r->range[i].to = to;
    r->ranges++;
    return true;
}

static bool ip_reassembly_has(const struct ip_reassembly *r, uint32_t from, uint32_t to)
{
    unsigned i;
    for (i = 0; i < r->ranges; i++)
        if (r->range[i].from <= from && to <= r->range[i].to)
            return true;
    return false;
}

/* The whole datagram, as a packet of one piece behind a made-up header. */
static void ip_reassembled(struct nat *n, struct ip_reassembly *r, struct pkt *from)
{
    bool v4 = nat_is_v4(&r->src);
    size_t header = NAT_ETHER_BYTES + (size_t)(v4 ? NAT_IP4_BYTES : NAT_IP6_BYTES);
    struct host_iov piece;
    struct net_frame f;
    struct pkt p;
    uint8_t *bytes = emu_alloc(n->emu, header + r->total);
    if (!bytes) {
        ip_reassembly_free(n, r);
        return;
    }
    memcpy(bytes, from->head, 12); /* the link's addresses */
    memcpy(bytes + NAT_ETHER_BYTES, r->quote, v4 ? NAT_IP4_BYTES : NAT_IP6_BYTES);
    memcpy(bytes + header, r->bytes, r->total);
    memset(&f, 0, sizeof f);
    piece.base = bytes;
    piece.size = header + r->total;
    f.pieces = &piece;
    f.count = 1;
    f.size = piece.size;
    pkt_init(&p, &f);
    p.l4 = header;
    p.end = f.size;
    p.src = r->src;
    p.dst = r->dst;
    p.proto = r->proto;
    p.ttl = r->ttl;
    p.to_all = from->to_all;
    memcpy(p.src_mac, from->src_mac, 6);
    ip_reassembly_free(n, r);
    if (v4)
        ip_deliver(n, &p);
    else
        ip6_headers(n, &p, p.proto, true);
    emu_free(n->emu, bytes);
}

EMU_PRIV void ip_fragment(struct nat *n, struct pkt *p, uint32_t id, size_t offset, bool more)
{
    size_t size = p->end - p->l4, need = offset + size;
    bool v4 = nat_is_v4(&p->src);
    size_t header = v4 ? NAT_IP4_BYTES : NAT_IP6_BYTES;
    struct ip_reassembly *r;
    const uint8_t *data;
    if (!size || need > IP_REASSEMBLY_BYTES - header || (more && (size & 7)))
        return;
    if (!pkt_flatten(n, p) || !(data = pkt_bytes(p, p->l4, size)))
        return;
    r = ip_reassembly_get(n, p, id);
    if (ip_reassembly_has(r, (uint32_t)offset, (uint32_t)need)) { /* the same again */
        if (r->bytes && !memcmp(r->bytes + offset, data, size))
            return;
        ip_reassembly_free(n, r);
        return;
    }
    if ((!more && r->total && r->total != need) || (r->total && need > r->total) || (!more && r->ranges && r->range[r->ranges - 1].to > need) ||
        !ip_reassembly_add(r, (uint32_t)offset, (uint32_t)need)) {
        ip_reassembly_free(n, r);
        return;
    }
    if (need > r->capacity) {
        size_t capacity = EMU_MIN((size_t)IP_REASSEMBLY_BYTES, EMU_MAX(need, r->capacity * 2));
        uint8_t *bytes = emu_realloc(n->emu, r->bytes, capacity);
        if (!bytes) {
            ip_reassembly_free(n, r);
            return;
        }
        r->bytes = bytes;
        r->capacity = capacity;
    }
    memcpy(r->bytes + offset, data, size);
    if (!more)
        r->total = need;
    if (!offset) {
        const uint8_t *ip = pkt_bytes(p, p->l3, header);
        r->first_seen = true;
        memset(r->quote, 0, sizeof r->quote);
        if (ip) {
            memcpy(r->quote, ip, header);
            if (v4) {
                r->quote[0] = 0x45;
                st16be(r->quote + 6, 0);
            } else {
                r->quote[6] = p->proto;
            }
        }
        memcpy(r->quote + header, data, EMU_MIN(size, (size_t)8));
    }
    if (r->total && r->ranges == 1 && r->range[0].from == 0 && r->range[0].to == r->total && r->first_seen)
        ip_reassembled(n, r, p);
}

EMU_PRIV void ip_timeout(struct nat *n)
{
    int64_t now = emu_now_ns(n->emu);
    unsigned i;
    for (i = 0; i < IP_REASSEMBLIES; i++) {
        struct ip_reassembly *r = &n->reassembly[i];
        if (!r->used || now - r->started_ns < IP_REASSEMBLY_NS)
            continue;
        if (r->first_seen)
            icmp_error_about(n, NAT_REASSEMBLY_EXCEEDED, NULL, &r->src, &r->dst, r->proto, r->quote + (nat_is_v4(&r->src) ? NAT_IP4_BYTES : NAT_IP6_BYTES), 8);
        ip_reassembly_free(n, r);
    }
}

EMU_PRIV void ip_destroy(struct nat *n)
{
    unsigned i;
    for (i = 0; i < IP_REASSEMBLIES; i++)
        ip_reassembly_free(n, &n->reassembly[i]);
}

/* ---- IPv4 ---- */

EMU_PRIV void ip_input(struct nat *n, struct pkt *p)
{
    const uint8_t *ip = pkt_bytes(p, p->l3, NAT_IP4_BYTES);
    size_t header, total;
    uint32_t src, dst;
    unsigned fragment;
    if (!n->ip4 || !ip || ip[0] >> 4 != 4)
        return;
    header = (size_t)(ip[0] & 15) * 4;
    total = ld16be(ip + 2);
    if (p->frame->gso != NET_GSO_NONE) /* its length field is the NIC's business: it may not even fit in 16 bits */
        total = p->size - p->l3;
    if (header < NAT_IP4_BYTES || !(ip = pkt_bytes(p, p->l3, header)) || total < header || total > p->size - p->l3) {
        n->bad_packets++;
        return;
    }
    if (!p->trusted && net_checksum(ip, header, 0)) {
        n->bad_packets++;
        return;
    }
    src = ld32be(ip + 12);
    dst = ld32be(ip + 16);
    p->l4 = p->l3 + header;
    p->end = p->l3 + total;
    p->src = nat_v4(src);
    p->dst = nat_v4(dst);
    p->tos = ip[1];
    p->ttl = ip[8];
    p->proto = ip[9];
    p->to_all = dst == UINT32_MAX || dst == (n->net4 | ~n->mask4) || dst >> 28 == 14;
    if (src == UINT32_MAX || src >> 28 == 14 || src >> 24 == 127 || dst >> 24 == 127 || !(dst >> 24)) /* RFC 1812 §5.3.7: martians */
        return;
    if (src)
        arp_learn(n, &p->src, p->src_mac);
    fragment = ld16be(ip + 6);
    if (fragment & 0x3FFF) {
        ip_fragment(n, p, ld16be(ip + 4), (size_t)(fragment & 0x1FFF) * 8, (fragment & 0x2000) != 0);
        return;
    }
    ip_deliver(n, p);
}
#undef IP_REASSEMBLY_NS
