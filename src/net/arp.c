/* net/arp.c - ARP, and the one table of link addresses for both families.
 *
 * Models     RFC 826; RFC 5227 (a probe has sender address 0 and is not learned from).
 * Contract   nat.c hands in ARP frames; ip.c and ipv6.c report what they see (arp_learn); packet.c and tcp.c ask (arp_lookup).
 * Theory     Answers are given for the addresses that live in here: host, DNS and guestfwd servers. What the guest's frames
 *            show of its addresses is kept in a small table, oldest entry first to go. A datagram for an unknown address waits
 *            (ARP_WAITING of them) while the question is out; TCP needs no place to wait, it sends again.
 * Invariants 1. An entry is known only by a frame of the guest's that came from this address.
 *            2. At most one question a second goes out for an address.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

enum { ARP_BYTES = 28, ARP_REQUEST = 1, ARP_REPLY = 2 };

static void arp_send(struct nat *n, uint16_t operation, const uint8_t to[6], const uint8_t target_mac[6], uint32_t sender_ip, uint32_t target_ip)
{
    uint8_t f[NAT_ETHER_BYTES + ARP_BYTES], *a = f + NAT_ETHER_BYTES;
    nat_frame_start(n, f, to, NAT_ETHERTYPE_ARP);
    st16be(a, 1);
    st16be(a + 2, NAT_ETHERTYPE_IP4);
    a[4] = 6;
    a[5] = 4;
    st16be(a + 6, operation);
    memcpy(a + 8, n->mac, 6);
    st32be(a + 14, sender_ip);
    memcpy(a + 18, target_mac, 6);
    st32be(a + 24, target_ip);
    nat_send_flat(n, f, sizeof f);
}

static struct arp_entry *arp_find(struct nat *n, const struct nat_addr *ip)
{
    unsigned i;
    for (i = 0; i < ARP_ENTRIES; i++)
        if (n->arp[i].used && nat_addr_eq(&n->arp[i].ip, ip))
            return &n->arp[i];
    return NULL;
}

static void arp_drop_waiting(struct nat *n, struct arp_entry *e)
{
    while (e->waiting)
        emu_free(n->emu, e->packets[--e->waiting].bytes);
}

static struct arp_entry *arp_get(struct nat *n, const struct nat_addr *ip)
{
    struct arp_entry *e = arp_find(n, ip), *oldest = &n->arp[0];
    unsigned i;
    if (e)
        return e;
    for (i = 0; i < ARP_ENTRIES; i++) {
        if (!n->arp[i].used) {
            oldest = &n->arp[i];
            break;
        }
        if (n->arp[i].seen_ns < oldest->seen_ns)
            oldest = &n->arp[i];
    }
    arp_drop_waiting(n, oldest);
    memset(oldest, 0, sizeof *oldest);
    oldest->used = true;
    oldest->ip = *ip;
    oldest->seen_ns = emu_now_ns(n->emu);
    oldest->asked_ns = oldest->seen_ns - NS_PER_SEC;
    return oldest;
}

EMU_PRIV void arp_learn(struct nat *n, const struct nat_addr *ip, const uint8_t mac[6])
{
    struct arp_entry *e;
    unsigned i;
    bool news;
    if ((mac[0] & 1) || nat_is_ours(n, ip) || !nat_in_net(n, ip))
        return;
    e = arp_find(n, ip);
    if (e && e->known && !memcmp(e->mac, mac, 6) && e != n->arp) { /* the last talker stands first: the usual case costs one comparison */
        struct arp_entry t = n->arp[0];
        n->arp[0] = *e;
        *e = t;
        e = n->arp;
    }
    if (!e)
        e = arp_get(n, ip);
    news = !e->known || memcmp(e->mac, mac, 6) != 0;
    e->known = true;
    memcpy(e->mac, mac, 6);
    if (!news)
        return;
    e->seen_ns = emu_now_ns(n->emu);
    for (i = 0; i < e->waiting; i++) {
        memcpy(e->packets[i].bytes, mac, 6);
        nat_send_flat(n, e->packets[i].bytes, e->packets[i].size);
    }
    arp_drop_waiting(n, e);
    tcp_arp_known(n, ip);
}

EMU_PRIV const uint8_t *arp_lookup(struct nat *n, const struct nat_addr *ip)
{
    static const uint8_t all[6] = { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF }, unknown[6];
    struct arp_entry *e;
    int64_t now;
    if (nat_is_v4(ip) && (nat_get_v4(ip) == UINT32_MAX || nat_get_v4(ip) == (n->net4 | ~n->mask4)))
        return all;
    e = arp_get(n, ip);
    if (e->known)
        return e->mac;
    now = emu_now_ns(n->emu);
    if (now - e->asked_ns >= NS_PER_SEC) {
        e->asked_ns = now;
        if (nat_is_v4(ip))
            arp_send(n, ARP_REQUEST, all, unknown, n->host4, nat_get_v4(ip));
        else
            ip6_solicit(n, ip);
    }
    return NULL;
}

EMU_PRIV void arp_wait(struct nat *n, const struct nat_addr *ip, const uint8_t *frame, size_t size)
{
    struct arp_entry *e = arp_find(n, ip);
    uint8_t *copy;
    if (!e || e->waiting == ARP_WAITING || !(copy = emu_realloc(n->emu, NULL, size)))
        return;
    memcpy(copy, frame, size);
    e->packets[e->waiting].bytes = copy;
    e->packets[e->waiting++].size = size;
}

EMU_PRIV void arp_input(struct nat *n, struct pkt *p)
{
    const uint8_t *a = pkt_bytes(p, p->l3, ARP_BYTES);
    uint32_t sender, target;
    struct nat_addr target_addr, sender_addr;
    if (!n->ip4 || !a || ld16be(a) != 1 || ld16be(a + 2) != NAT_ETHERTYPE_IP4 || a[4] != 6 || a[5] != 4)
        return;
    sender = ld32be(a + 14);
    target = ld32be(a + 24);
    sender_addr = nat_v4(sender);
    target_addr = nat_v4(target);
    if (sender)
        arp_learn(n, &sender_addr, a + 8);
    if (ld16be(a + 6) != ARP_REQUEST)
        return;
    if (target == n->host4 || target == n->dns4 || nat_find_guestfwd(n, &target_addr, 0))
        arp_send(n, ARP_REPLY, a + 8, a + 8, target, sender);
}

EMU_PRIV void arp_destroy(struct nat *n)
{
    unsigned i;
    for (i = 0; i < ARP_ENTRIES; i++)
        arp_drop_waiting(n, &n->arp[i]);
}
