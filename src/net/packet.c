/* net/packet.c - the bytes of packets: one bounds-checked reader, one writer, checksums.
 *
 * Models     RFC 1071 (checksum), RFC 791 and RFC 8200 (headers, fragments), IEEE 802.3 (smallest frame); SipHash-2-4 (Aumasson, Bernstein 2012)
 *            for hash tables that a guest must not be able to fill on purpose, and for RFC 6528.
 * Contract   Every protocol file reads the guest's bytes through pkt_bytes() and sends flat datagrams through nat_send_l4(). TCP's bulk data does
 *            not pass here: tcp.c builds super-frames from its rings.
 * Theory     A frame comes as pieces. The head (256 bytes) is made contiguous at once, which is all that TCP needs; the other protocols ask
 *            for the whole. Frames toward a guest whose NIC is full wait in one bounded queue, in order, and are dropped beyond it.
 * Invariants 1. pkt_bytes() never returns a pointer to fewer bytes than asked for.
 *            2. queue_bytes is the sum of the queued sizes and at most NAT_QUEUE_BYTES.
 *            3. While the queue holds anything, nothing overtakes it except what tcp.c sends, which checks n->blocked itself.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#define NAT_QUEUE_BYTES (4 * MIB)

EMU_PRIV void pkt_init(struct pkt *p, const struct net_frame *f)
{
    p->frame = f;
    p->size = f->size;
    p->l3 = NAT_ETHER_BYTES;
    p->l4 = p->end = p->proto_at = 0;
    p->proto = p->ttl = p->tos = 0;
    p->to_all = false;
    p->trusted = f->csum_valid || f->needs_csum || f->gso != NET_GSO_NONE;
    if (f->count > 0 && (f->pieces[0].size >= PKT_HEAD || f->pieces[0].size >= f->size)) {
        p->head = f->pieces[0].base;
        p->head_size = EMU_MIN(f->pieces[0].size, f->size);
    } else {
        p->head_size = net_frame_copy(f, 0, p->copy, sizeof p->copy);
        p->head = p->copy;
        p->size = f->size;
    }
}

EMU_PRIV const uint8_t *pkt_bytes(const struct pkt *p, size_t offset, size_t size)
{
    if (offset > p->head_size || size > p->head_size - offset)
        return NULL;
    return p->head + offset;
}

EMU_PRIV bool pkt_flatten(struct nat *n, struct pkt *p)
{
    if (p->head_size >= p->size)
        return true;
    if (p->size > NAT_L4_MAX + 64 || net_frame_copy(p->frame, 0, n->flat, p->size) != p->size)
        return false;
    p->head = n->flat;
    p->head_size = p->size;
    return true;
}

EMU_PRIV uint32_t pkt_sum(const struct pkt *p, size_t offset, size_t end)
{
    uint32_t sum = 0;
    size_t at = 0, done = 0;
    int i;
    for (i = 0; i < p->frame->count && at < end; i++) {
        const struct host_iov *v = &p->frame->pieces[i];
        size_t from = offset > at ? offset - at : 0, to = EMU_MIN(v->size, end - at);
        if (from < to) {
            uint32_t part = net_checksum_fold(net_checksum_add((const uint8_t *)v->base + from, to - from, 0));
            if (done & 1) /* the piece begins in the middle of a 16-bit word */
                part = (part & 0xFF) << 8 | part >> 8;
            sum += part;
            done += to - from;
        }
        at += v->size;
    }
    return sum;
}

EMU_PRIV uint32_t pkt_pseudo_sum(const struct nat_addr *src, const struct nat_addr *dst, uint8_t proto, size_t l4_bytes)
{
    uint32_t sum = (uint32_t)proto + (uint32_t)(l4_bytes >> 16) + (uint32_t)(l4_bytes & 0xFFFF);
    size_t from = nat_is_v4(src) && nat_is_v4(dst) ? 12 : 0;
    sum = net_checksum_add(src->b + from, 16 - from, sum);
    return net_checksum_add(dst->b + from, 16 - from, sum);
}

EMU_PRIV bool pkt_l4_sum_ok(const struct pkt *p)
{
    uint32_t sum;
    if (p->trusted)
        return true;
    sum = net_checksum_fold(pkt_sum(p, p->l4, p->end)) + net_checksum_fold(pkt_pseudo_sum(&p->src, &p->dst, p->proto, p->end - p->l4));
    return net_checksum_fold(sum) == 0xFFFF;
}

/* ---- SipHash-2-4 ---- */

static uint64_t nat_rotate(uint64_t x, unsigned by) { return x << by | x >> (64 - by); }

static void nat_sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = nat_rotate(v[1], 13) ^ v[0];
    v[0] = nat_rotate(v[0], 32);
    v[2] += v[3];
    v[3] = nat_rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = nat_rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = nat_rotate(v[1], 17) ^ v[2];
    v[2] = nat_rotate(v[2], 32);
}

EMU_PRIV uint64_t nat_siphash(const uint64_t key[2], const uint8_t *data, size_t size)
{
    uint64_t v[4], last = (uint64_t)size << 56;
    size_t i, words = size / 8;
    v[0] = key[0] ^ UINT64_C(0x736F6D6570736575);
    v[1] = key[1] ^ UINT64_C(0x646F72616E646F6D);
    v[2] = key[0] ^ UINT64_C(0x6C7967656E657261);
    v[3] = key[1] ^ UINT64_C(0x7465646279746573);
    for (i = 0; i <= words; i++) {
        uint64_t m = last;
        size_t j;
        if (i < words)
            m = ld64le(data + i * 8);
        else
            for (j = 0; j < (size & 7); j++)
                m |= (uint64_t)data[i * 8 + j] << (8 * j);
        v[3] ^= m;
        nat_sip_round(v);
        nat_sip_round(v);
        v[0] ^= m;
    }
    v[2] ^= 0xFF;
    for (i = 0; i < 4; i++)
        nat_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- toward the guest ---- */

EMU_PRIV void nat_frame_start(struct nat *n, uint8_t *frame, const uint8_t dst[6], uint16_t ethertype)
{
    memcpy(frame, dst, 6);
    memcpy(frame + 6, n->mac, 6);
    st16be(frame + 12, ethertype);
}

EMU_PRIV void nat_send_flat(struct nat *n, const uint8_t *bytes, size_t size)
{
    uint8_t small[NAT_FRAME_MIN];
    struct host_iov piece;
    struct net_frame f;
    struct nat_queued *q;
    if (size < NAT_FRAME_MIN) {
        memset(small, 0, sizeof small);
        memcpy(small, bytes, size);
        bytes = small;
        size = NAT_FRAME_MIN;
    }
    if (!n->queue_count && !n->blocked) {
        memset(&f, 0, sizeof f);
        piece.base = (void *)(uintptr_t)bytes;
        piece.size = size;
        f.pieces = &piece;
        f.count = 1;
        f.size = size;
        f.csum_valid = true;
        if (net_send(&n->port, &f))
            return;
        n->blocked = true;
    }
    if (n->queue_count == NAT_QUEUE || n->queue_bytes + size > NAT_QUEUE_BYTES) {
        n->port.drops_in++;
        return;
    }
    q = &n->queue[(n->queue_first + n->queue_count) % NAT_QUEUE];
    q->bytes = emu_realloc(n->emu, NULL, size);
    if (!q->bytes)
        return;
    memcpy(q->bytes, bytes, size);
    q->size = size;
    n->queue_bytes += size;
    n->queue_count++;
}

/* A complete frame to a guest whose link address may not be known yet. */
static void nat_send_to(struct nat *n, const struct nat_addr *dst, const uint8_t *dst_mac, uint8_t *frame, size_t size)
{
    if (!dst_mac)
        dst_mac = arp_lookup(n, dst);
    if (!dst_mac) {
        arp_wait(n, dst, frame, size);
        return;
    }
    memcpy(frame, dst_mac, 6);
    nat_send_flat(n, frame, size);
}

static void nat_send_v4(struct nat *n, const struct nat_addr *src, const struct nat_addr *dst, uint8_t proto, uint8_t ttl, const uint8_t *dst_mac, const uint8_t *l4, size_t size)
{
    static const uint8_t nobody[6];
    size_t room = (n->mtu - NAT_IP4_BYTES) & ~(size_t)7, offset = 0;
    uint8_t *f = n->frame;
    uint16_t id = n->next_id++;
    do {
        size_t part = size - offset <= n->mtu - NAT_IP4_BYTES ? size - offset : room;
        bool more = offset + part < size;
        uint8_t *ip = f + NAT_ETHER_BYTES;
        nat_frame_start(n, f, nobody, NAT_ETHERTYPE_IP4);
        memset(ip, 0, NAT_IP4_BYTES);
        ip[0] = 0x45;
        st16be(ip + 2, (uint16_t)(NAT_IP4_BYTES + part));
        st16be(ip + 4, id);
        st16be(ip + 6, (uint16_t)((more ? 0x2000 : 0) | offset / 8));
        ip[8] = ttl;
        ip[9] = proto;
        memcpy(ip + 12, src->b + 12, 4);
        memcpy(ip + 16, dst->b + 12, 4);
        st16be(ip + 10, net_checksum(ip, NAT_IP4_BYTES, 0));
        memcpy(ip + NAT_IP4_BYTES, l4 + offset, part);
        nat_send_to(n, dst, dst_mac, f, NAT_ETHER_BYTES + NAT_IP4_BYTES + part);
        offset += part;
    } while (offset < size);
}

static void nat_send_v6(struct nat *n, const struct nat_addr *src, const struct nat_addr *dst, uint8_t proto, uint8_t ttl, const uint8_t *dst_mac, const uint8_t *l4, size_t size)
{
    static const uint8_t nobody[6];
    enum { FRAGMENT_HEADER = 44, FRAGMENT_BYTES = 8 }; /* RFC 8200 §4.5 */
    bool cut = size + NAT_IP6_BYTES > n->mtu;
    size_t room = cut ? (n->mtu - NAT_IP6_BYTES - FRAGMENT_BYTES) & ~(size_t)7 : size, offset = 0;
    uint8_t *f = n->frame;
    uint32_t id = nat_random(n);
    do {
        size_t part = EMU_MIN(size - offset, room), header = NAT_IP6_BYTES + (cut ? FRAGMENT_BYTES : 0);
        uint8_t *ip = f + NAT_ETHER_BYTES;
        nat_frame_start(n, f, nobody, NAT_ETHERTYPE_IP6);
        memset(ip, 0, header);
        ip[0] = 0x60;
        st16be(ip + 4, (uint16_t)(header - NAT_IP6_BYTES + part));
        ip[6] = cut ? FRAGMENT_HEADER : proto;
        ip[7] = ttl;
        memcpy(ip + 8, src->b, 16);
        memcpy(ip + 24, dst->b, 16);
        if (cut) {
            ip[40] = proto;
            st16be(ip + 42, (uint16_t)(offset | (offset + part < size ? 1 : 0)));
            st32be(ip + 44, id);
        }
        memcpy(ip + header, l4 + offset, part);
        nat_send_to(n, dst, dst_mac, f, NAT_ETHER_BYTES + header + part);
        offset += part;
    } while (offset < size);
}

EMU_PRIV void nat_send_l4(struct nat *n, const struct nat_addr *src, const struct nat_addr *dst, uint8_t proto, uint8_t ttl, const uint8_t *dst_mac, uint8_t *l4,
                          size_t size, size_t csum_offset)
{
    bool v4 = nat_is_v4(dst);
    if (size > NAT_L4_MAX - NAT_IP4_BYTES || (!v4 && size > NAT_L4_MAX - NAT_IP6_BYTES))
        return;
    if (csum_offset != SIZE_MAX && csum_offset + 2 <= size) {
        uint16_t sum;
        uint32_t pseudo = proto == NAT_PROTO_ICMP ? 0 : pkt_pseudo_sum(src, dst, proto, size);
        st16be(l4 + csum_offset, 0);
        sum = net_checksum(l4, size, pseudo);
        if (!sum && proto == NAT_PROTO_UDP) /* zero means none: RFC 768 */
            sum = 0xFFFF;
        st16be(l4 + csum_offset, sum);
    }
    if (v4)
        nat_send_v4(n, src, dst, proto, ttl, dst_mac, l4, size);
    else
        nat_send_v6(n, src, dst, proto, ttl, dst_mac, l4, size);
}
#undef NAT_QUEUE_BYTES
