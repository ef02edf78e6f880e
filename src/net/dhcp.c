/* net/dhcp.c - the DHCP and BOOTP server that the guest sees.
 *
 * Models     RFC 2131, RFC 2132 (options), RFC 951 (plain BOOTP), RFC 3397 (option 119), RFC 6842 (client id comes back), RFC 4578 clients (PXE) as they
 *            find bootfile and server in the fixed fields and in options 66 and 67.
 * Contract   udp.c gives it what goes to port 67. What it answers follows -netdev user's net, host, dns, dhcpstart, hostname, ...
 * Theory     A lease belongs to a hardware address. Leases rise from dhcpstart; an address asked for by name is granted if it lies in the network
 *            and is free, also in a REQUEST that no DISCOVER came before (Windows after a resume). Leases last a day and are remembered longer,
 *            so a guest finds its address again.
 * Invariants 1. No two leases have one address; none is the host's, the DNS's, a guestfwd server's, the network's or the broadcast's.
 *            2. Options are read by tag, length and bounds; what does not fit ends the list.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#define DHCP_LEASE_S 86400u

enum {
    DHCP_FIXED = 240, /* up to and with the cookie */
    DHCP_BOOTP_MIN = 300,
    DHCP_REPLY_MAX = 576 - 28,
    DHCP_DISCOVER = 1,
    DHCP_OFFER = 2,
    DHCP_REQUEST = 3,
    DHCP_DECLINE = 4,
    DHCP_ACK = 5,
    DHCP_NAK = 6,
    DHCP_RELEASE = 7,
    DHCP_INFORM = 8
};

struct dhcp_request {
    uint8_t type; /* 0: BOOTP */
    const uint8_t *mac;
    uint32_t wanted, server, client; /* options 50 and 54, ciaddr */
    const uint8_t *id;
    size_t id_size;
    size_t room; /* bytes an answer may have */
};

static const uint8_t *dhcp_option(const uint8_t *o, size_t size, uint8_t tag, size_t *length)
{
    size_t i = 0;
    while (i < size && o[i] != 255) {
        if (!o[i]) {
            i++;
            continue;
        }
        if (size - i < 2 || (size_t)o[i + 1] > size - i - 2)
            return NULL;
        if (o[i] == tag) {
            *length = o[i + 1];
            return o + i + 2;
        }
        i += (size_t)2 + o[i + 1];
    }
    return NULL;
}

static bool dhcp_usable(struct nat *n, uint32_t ip)
{
    struct nat_addr a = nat_v4(ip);
    return (ip & n->mask4) == n->net4 && ip != n->net4 && ip != (n->net4 | ~n->mask4) && ip != n->host4 && ip != n->dns4 && !nat_find_guestfwd(n, &a, 0);
}

static struct nat_lease *dhcp_by_mac(struct nat *n, const uint8_t mac[6])
{
    unsigned i;
    for (i = 0; i < NAT_LEASES; i++)
        if (n->leases[i].used && !n->leases[i].declined && !memcmp(n->leases[i].mac, mac, 6))
            return &n->leases[i];
    return NULL;
}

static struct nat_lease *dhcp_by_ip(struct nat *n, uint32_t ip)
{
    unsigned i;
    for (i = 0; i < NAT_LEASES; i++)
        if (n->leases[i].used && n->leases[i].ip == ip)
            return &n->leases[i];
    return NULL;
}

static struct nat_lease *dhcp_grant(struct nat *n, const uint8_t mac[6], uint32_t ip)
{
    struct nat_lease *l = dhcp_by_mac(n, mac);
    unsigned i, oldest = 0;
    if (!l) {
        for (i = 0; i < NAT_LEASES && n->leases[i].used; i++)
            if (n->leases[i].until_ns < n->leases[oldest].until_ns)
                oldest = i;
        if (i == NAT_LEASES) { /* all places taken: only one that ran out may go */
            if (n->leases[oldest].until_ns > emu_now_ns(n->emu))
                return NULL;
            i = oldest;
        }
        l = &n->leases[i];
    }
    l->used = true;
    l->declined = false;
    memcpy(l->mac, mac, 6);
    l->ip = ip;
    l->until_ns = emu_now_ns(n->emu) + (int64_t)DHCP_LEASE_S * NS_PER_SEC;
    return l;
}

/* A lease for the client: its own, the one it asks for, or the first free one. NULL: none left. */
static struct nat_lease *dhcp_find_lease(struct nat *n, const struct dhcp_request *q)
{
    struct nat_lease *l = dhcp_by_mac(n, q->mac), *other;
    uint32_t ip, last = (n->net4 | ~n->mask4) - 1, tried;
    if (l)
        return dhcp_grant(n, q->mac, l->ip);
    if (q->wanted && dhcp_usable(n, q->wanted) && !dhcp_by_ip(n, q->wanted))
        return dhcp_grant(n, q->mac, q->wanted);
    for (tried = 0, ip = n->dhcp4; tried < 1024; tried++, ip = ip >= last ? n->net4 + 1 : ip + 1) {
        if (!dhcp_usable(n, ip))
            continue;
        other = dhcp_by_ip(n, ip);
        if (!other)
            return dhcp_grant(n, q->mac, ip);
        if (other->until_ns <= emu_now_ns(n->emu)) {
            other->used = false;
            return dhcp_grant(n, q->mac, ip);
        }
    }
    return NULL;
}

struct dhcp_reply {
    uint8_t bytes[DHCP_REPLY_MAX];
    size_t size, room;
};

static void dhcp_put(struct dhcp_reply *r, uint8_t tag, const void *value, size_t size)
{
    if (size > 255 || r->size + 2 + size + 1 > r->room) /* invariant: room for the end mark stays */
        return;
    r->bytes[r->size] = tag;
    r->bytes[r->size + 1] = (uint8_t)size;
    memcpy(r->bytes + r->size + 2, value, size);
    r->size += 2 + size;
}

static void dhcp_put32(struct dhcp_reply *r, uint8_t tag, uint32_t v)
{
    uint8_t b[4];
    st32be(b, v);
    dhcp_put(r, tag, b, 4);
}

static void dhcp_put_network(struct nat *n, struct dhcp_reply *r)
{
    uint8_t mtu[2];
    dhcp_put32(r, 1, n->mask4);
    if (!n->restricted) {
        dhcp_put32(r, 3, n->host4);
        dhcp_put32(r, 6, n->dns4);
    }
    if (n->hostname)
        dhcp_put(r, 12, n->hostname, strlen(n->hostname));
    if (n->domainname)
        dhcp_put(r, 15, n->domainname, strlen(n->domainname));
    if (n->mtu != 1500) {
        st16be(mtu, (uint16_t)n->mtu);
        dhcp_put(r, 26, mtu, 2);
    }
    if (n->tftp_server_name)
        dhcp_put(r, 66, n->tftp_server_name, strlen(n->tftp_server_name));
    if (n->bootfile)
        dhcp_put(r, 67, n->bootfile, strlen(n->bootfile));
    if (n->search)
        dhcp_put(r, 119, n->search, n->search_size);
}

static void dhcp_answer(struct nat *n, const uint8_t *m, const struct dhcp_request *q, uint8_t type, uint32_t ip)
{
    static const uint8_t all[6] = { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF };
    struct dhcp_reply r;
    struct nat_addr src = nat_v4(n->host4), dst;
    uint32_t relay = ld32be(m + 24);
    uint8_t t = type;
    bool broadcast = (ld16be(m + 10) & 0x8000) != 0 || type == DHCP_NAK;
    memset(&r, 0, sizeof r);
    r.room = EMU_MIN(sizeof r.bytes, q->room);
    r.bytes[0] = 2;
    r.bytes[1] = m[1];
    r.bytes[2] = m[2];
    memcpy(r.bytes + 4, m + 4, 4);   /* xid */
    memcpy(r.bytes + 10, m + 10, 2); /* flags */
    if (type != DHCP_NAK) {
        memcpy(r.bytes + 12, m + 12, 4);
        if (type != DHCP_INFORM)
            st32be(r.bytes + 16, ip);
        st32be(r.bytes + 20, n->host4);
        if (n->tftp_server_name)
            snprintf((char *)r.bytes + 44, 64, "%s", n->tftp_server_name);
        if (n->bootfile)
            snprintf((char *)r.bytes + 108, 128, "%s", n->bootfile);
    }
    st32be(r.bytes + 24, relay);
    memcpy(r.bytes + 28, m + 28, 16);
    st32be(r.bytes + 236, UINT32_C(0x63825363)); /* RFC 1497's cookie */
    r.size = DHCP_FIXED;
    if (type) {
        if (type == DHCP_INFORM)
            t = DHCP_ACK;
        dhcp_put(&r, 53, &t, 1);
        dhcp_put32(&r, 54, n->host4);
    }
    if (type == DHCP_OFFER || type == DHCP_ACK) {
        dhcp_put32(&r, 51, DHCP_LEASE_S);
        dhcp_put32(&r, 58, DHCP_LEASE_S / 2);
        dhcp_put32(&r, 59, DHCP_LEASE_S / 8 * 7);
    }
    if (q->id)
        dhcp_put(&r, 61, q->id, q->id_size);
    if (type != DHCP_NAK)
        dhcp_put_network(n, &r);
    else
        dhcp_put(&r, 56, "address not available", 21);
    if (r.size < r.room)
        r.bytes[r.size++] = 255;
    if (r.size < DHCP_BOOTP_MIN)
        r.size = DHCP_BOOTP_MIN;
    /* RFC 2131 §4.1: unicast to the hardware address unless the client can't */
    if (q->client && type != DHCP_NAK)
        dst = nat_v4(q->client);
    else if (broadcast || !ip)
        dst = nat_v4(UINT32_MAX);
    else
        dst = nat_v4(ip);
    udp_send(n, &src, 67, &dst, 68, nat_get_v4(&dst) == UINT32_MAX ? all : q->mac, r.bytes, r.size);
}

EMU_PRIV void dhcp_input(struct nat *n, struct pkt *p, const uint8_t *m, size_t size)
{
    struct dhcp_request q;
    struct nat_lease *l;
    const uint8_t *o, *v;
    size_t osize, length;
    (void)p;
    if (!n->ip4 || size < 236 || m[0] != 1 || m[1] != 1 || m[2] != 6 || (m[28] & 1))
        return;
    memset(&q, 0, sizeof q);
    q.mac = m + 28;
    q.client = ld32be(m + 12);
    q.room = DHCP_REPLY_MAX;
    o = m + DHCP_FIXED;
    osize = size >= DHCP_FIXED && ld32be(m + 236) == UINT32_C(0x63825363) ? size - DHCP_FIXED : 0;
    if ((v = dhcp_option(o, osize, 53, &length)) && length == 1)
        q.type = v[0];
    if ((v = dhcp_option(o, osize, 50, &length)) && length == 4)
        q.wanted = ld32be(v);
    if ((v = dhcp_option(o, osize, 54, &length)) && length == 4)
        q.server = ld32be(v);
    if ((v = dhcp_option(o, osize, 61, &length)) && length) {
        q.id = v;
        q.id_size = length;
    }
    switch (q.type) {
    case 0:
    case DHCP_DISCOVER:
        if ((l = dhcp_find_lease(n, &q)))
            dhcp_answer(n, m, &q, q.type ? DHCP_OFFER : 0, l->ip);
        return;
    case DHCP_REQUEST: {
        uint32_t ip = q.wanted ? q.wanted : q.client;
        struct nat_lease *mine = dhcp_by_mac(n, q.mac), *other;
        if (q.server && q.server != n->host4) { /* it took another server's offer */
            if (mine && !q.client)
                mine->used = false;
            return;
        }
        other = dhcp_by_ip(n, ip);
        if (!ip || !dhcp_usable(n, ip) || (other && other != mine && other->until_ns > emu_now_ns(n->emu)) || (other && other->declined)) {
            dhcp_answer(n, m, &q, DHCP_NAK, 0);
            return;
        }
        if (other && other != mine)
            other->used = false;
        if (!(l = dhcp_grant(n, q.mac, ip))) {
            dhcp_answer(n, m, &q, DHCP_NAK, 0);
            return;
        }
        {
            struct nat_addr a = nat_v4(ip);
            if (q.client == ip) /* it has the address already: RENEWING */
                arp_learn(n, &a, q.mac);
        }
        dhcp_answer(n, m, &q, DHCP_ACK, l->ip);
        return;
    }
    case DHCP_DECLINE: /* somebody else uses it: never offered again while the machine runs */
        l = dhcp_by_ip(n, q.wanted);
        if (l && !memcmp(l->mac, q.mac, 6)) {
            l->declined = true;
            l->until_ns = INT64_MAX;
        }
        return;
    case DHCP_RELEASE:
        l = dhcp_by_mac(n, q.mac);
        if (l && l->ip == q.client)
            l->until_ns = emu_now_ns(n->emu); /* remembered for the same client, free for others */
        return;
    case DHCP_INFORM:
        if (q.client)
            dhcp_answer(n, m, &q, DHCP_INFORM, 0);
        return;
    default: return;
    }
}
#undef DHCP_LEASE_S
