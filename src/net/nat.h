/* net/nat.h - what the files of the NAT stack (-netdev user) share.
 *
 * Contract   nat.c owns struct nat and calls the protocol files; they call each other only through what stands here. Addresses of both families
 *            are struct nat_addr: IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2), so that flows, tables and tests have one kind of key.
 * Invariants 1. Packet bytes from the guest are reached through pkt_bytes() only.
 *            2. Nothing here waits; host answers come through watches and the poll hook.
 */
#ifndef EMU_NAT_H
#define EMU_NAT_H

struct nat;
struct tcp_flow;
struct udp_flow;
struct icmp_flow;
struct dns_query;
struct tftp_session;
struct nat_hostfwd;
struct nat_guestfwd;

enum { /* assigned numbers */
    NAT_ETHERTYPE_IP4 = 0x0800,
    NAT_ETHERTYPE_ARP = 0x0806,
    NAT_ETHERTYPE_VLAN = 0x8100,
    NAT_ETHERTYPE_IP6 = 0x86DD,
    NAT_PROTO_ICMP = 1,
    NAT_PROTO_TCP = 6,
    NAT_PROTO_UDP = 17,
    NAT_PROTO_ICMP6 = 58,
    NAT_IP6_NO_NEXT = 59,
    NAT_ETHER_BYTES = 14,
    NAT_IP4_BYTES = 20,
    NAT_IP6_BYTES = 40,
    NAT_FRAME_MIN = 60,    /* IEEE 802.3, without checksum */
    NAT_L4_MAX = 65535,    /* bytes of one datagram above IP */
    NAT_TTL = 64
};

struct nat_addr {
    uint8_t b[16];
};
EMU_INLINE struct nat_addr nat_v4(uint32_t ip)
{
    struct nat_addr a;
    memset(&a, 0, sizeof a);
    a.b[10] = a.b[11] = 0xFF;
    st32be(a.b + 12, ip);
    return a;
}
EMU_INLINE struct nat_addr nat_v6(const uint8_t *b)
{
    struct nat_addr a;
    memcpy(a.b, b, 16);
    return a;
}
EMU_INLINE bool nat_is_v4(const struct nat_addr *a) { return !ld64be(a->b) && ld32be(a->b + 8) == 0xFFFF; }
EMU_INLINE uint32_t nat_get_v4(const struct nat_addr *a) { return ld32be(a->b + 12); }
EMU_INLINE bool nat_addr_eq(const struct nat_addr *a, const struct nat_addr *b) { return !memcmp(a->b, b->b, 16); }

/* ---- packet.c: the one way to packet bytes ---- */
enum { PKT_HEAD = 256 };
struct pkt { /* a frame from the guest while it is looked at */
    const struct net_frame *frame;
    const uint8_t *head; /* contiguous bytes from the frame's start */
    size_t head_size, size;
    size_t proto_at; /* IPv6: offset from l3 of the next-header field that proto came from */
    size_t l3, l4, end; /* where the IP header, its payload and the datagram's end are; l4 <= end <= size */
    struct nat_addr src, dst;
    uint8_t src_mac[6];
    uint8_t proto, ttl, tos;
    bool trusted; /* checksums are vouched for (or left open) by the sender */
    bool to_all;  /* broadcast or multicast destination */
    uint8_t copy[PKT_HEAD];
};
EMU_PRIV void pkt_init(struct pkt *p, const struct net_frame *f);
EMU_PRIV const uint8_t *pkt_bytes(const struct pkt *p, size_t offset, size_t size); /* NULL if not wholly inside */
EMU_PRIV bool pkt_flatten(struct nat *n, struct pkt *p); /* all bytes contiguous; false: out of memory or too large */
EMU_PRIV uint32_t pkt_sum(const struct pkt *p, size_t offset, size_t end); /* running Internet checksum over pieces */
EMU_PRIV uint32_t pkt_pseudo_sum(const struct nat_addr *src, const struct nat_addr *dst, uint8_t proto, size_t l4_bytes);
EMU_PRIV bool pkt_l4_sum_ok(const struct pkt *p); /* TCP, UDP, ICMPv6 with pseudo header */
EMU_PRIV uint64_t nat_siphash(const uint64_t key[2], const uint8_t *data, size_t size);

/* Frames toward the guest. Flat ones are queued while its NIC is full (bounded), and padded to 60 bytes. */
EMU_PRIV void nat_send_flat(struct nat *n, const uint8_t *bytes, size_t size);
EMU_PRIV void nat_frame_start(struct nat *n, uint8_t *frame, const uint8_t dst[6], uint16_t ethertype);
/* L4 datagram: header and data with the checksum field at csum_offset zero (filled in here; SIZE_MAX: none). Fragments as the MTU asks.
 * dst_mac NULL: looked up, asked for if unknown (the datagram waits; a few may). */
EMU_PRIV void nat_send_l4(struct nat *n, const struct nat_addr *src, const struct nat_addr *dst, uint8_t proto, uint8_t ttl, const uint8_t *dst_mac, uint8_t *l4,
                          size_t size, size_t csum_offset);

/* ---- arp.c: ARP and the table of the guest's link addresses ---- */
enum { ARP_ENTRIES = 64, ARP_WAITING = 4 };
struct arp_entry {
    struct nat_addr ip;
    uint8_t mac[6];
    bool used, known;
    int64_t asked_ns, seen_ns; /* virtual */
    unsigned waiting;
    struct {
        uint8_t *bytes;
        size_t size;
    } packets[ARP_WAITING]; /* frames that wait for the address */
};
EMU_PRIV void arp_input(struct nat *n, struct pkt *p);
EMU_PRIV void arp_learn(struct nat *n, const struct nat_addr *ip, const uint8_t mac[6]);
EMU_PRIV const uint8_t *arp_lookup(struct nat *n, const struct nat_addr *ip); /* NULL: asked */
EMU_PRIV void arp_wait(struct nat *n, const struct nat_addr *ip, const uint8_t *frame, size_t size);
EMU_PRIV void arp_destroy(struct nat *n);

/* ---- ip.c ---- */
enum { IP_REASSEMBLIES = 32, IP_REASSEMBLY_BYTES = 65535, IP_HOLES = 64 };
struct ip_reassembly { /* IPv4 and IPv6 alike */
    bool used;
    struct nat_addr src, dst;
    uint32_t id;
    uint8_t proto, ttl;
    int64_t started_ns;
    uint8_t *bytes;
    size_t capacity, total; /* total: 0 until the last fragment came */
    unsigned ranges;
    struct {
        uint32_t from, to;
    } range[IP_HOLES];
    uint8_t quote[NAT_IP6_BYTES + 8]; /* of the first fragment, for time exceeded */
    bool first_seen;
};
EMU_PRIV void ip_input(struct nat *n, struct pkt *p);
EMU_PRIV void ip_deliver(struct nat *n, struct pkt *p); /* to TCP, UDP, ICMP; p->l4..p->end is the datagram */
EMU_PRIV void ip_fragment(struct nat *n, struct pkt *p, uint32_t id, size_t offset, bool more);
EMU_PRIV void ip_timeout(struct nat *n);
EMU_PRIV void ip_destroy(struct nat *n);

/* ---- icmp.c, ipv6.c ---- */
enum nat_unreach { NAT_UNREACH_NET, NAT_UNREACH_HOST, NAT_UNREACH_PORT, NAT_UNREACH_ADMIN, NAT_UNREACH_PROTO, NAT_TTL_EXCEEDED, NAT_REASSEMBLY_EXCEEDED };
EMU_PRIV void icmp_input(struct nat *n, struct pkt *p);
EMU_PRIV void icmp_error(struct nat *n, struct pkt *p, enum nat_unreach why); /* about a packet of the guest's; IPv6's unknown protocol is a parameter problem */
/* About a packet that is described only: quoted header built anew. from NULL: our own address. */
EMU_PRIV void icmp_error_about(struct nat *n, enum nat_unreach why, const struct nat_addr *from, const struct nat_addr *guest, const struct nat_addr *remote, uint8_t proto,
                               const uint8_t l4[8], size_t l4_bytes);
EMU_PRIV void icmp_tick(struct nat *n, int64_t host_now);
EMU_PRIV void icmp_destroy(struct nat *n);
EMU_PRIV void icmp_print_info(struct nat *n, struct buf *out);
EMU_PRIV bool icmp_forward_echo(struct nat *n, struct pkt *p); /* both families, through a ping socket */
EMU_PRIV void ip6_input(struct nat *n, struct pkt *p);
EMU_PRIV void ip6_headers(struct nat *n, struct pkt *p, uint8_t next, bool whole); /* from p->l4 on; whole: put together from fragments */
EMU_PRIV void icmp6_input(struct nat *n, struct pkt *p);
EMU_PRIV void ip6_solicit(struct nat *n, const struct nat_addr *ip);
EMU_PRIV void ip6_start(struct nat *n);
EMU_PRIV void ip6_advertise(struct nat *n);
EMU_PRIV bool ip6_dhcp(struct nat *n, struct pkt *p); /* true: was one */

/* ---- udp.c ---- */
EMU_PRIV void udp_input(struct nat *n, struct pkt *p);
EMU_PRIV void udp_send(struct nat *n, const struct nat_addr *src, uint16_t src_port, const struct nat_addr *dst, uint16_t dst_port, const uint8_t *dst_mac, const void *data, size_t size);
EMU_PRIV void udp_tick(struct nat *n, int64_t host_now);
EMU_PRIV void udp_forwarded(struct nat *n, struct nat_hostfwd *fwd); /* its socket has datagrams */
EMU_PRIV void udp_forget(struct nat *n, struct nat_hostfwd *fwd);
EMU_PRIV void udp_destroy(struct nat *n);
EMU_PRIV void udp_print_info(struct nat *n, struct buf *out);

/* ---- tcp.c ---- */
EMU_PRIV void tcp_input(struct nat *n, struct pkt *p);
EMU_PRIV void tcp_accept(struct nat *n, struct nat_hostfwd *fwd, host_fd fd, const struct host_addr *peer); /* takes fd */
EMU_PRIV void tcp_kick(struct nat *n);  /* the guest's NIC has room */
EMU_PRIV void tcp_arp_known(struct nat *n, const struct nat_addr *ip);
EMU_PRIV void tcp_tick(struct nat *n, int64_t host_now);
EMU_PRIV void tcp_destroy(struct nat *n);
EMU_PRIV void tcp_print_info(struct nat *n, struct buf *out);
EMU_PRIV void tcp_close_guestfwd(struct nat *n, struct nat_guestfwd *g);
EMU_PRIV bool tcp_check(struct nat *n); /* debug: walks the flows; false: an invariant is broken */

/* ---- dhcp.c, dns.c, tftp.c ---- */
EMU_PRIV void dhcp_input(struct nat *n, struct pkt *p, const uint8_t *bytes, size_t size);
EMU_PRIV void dns_input(struct nat *n, struct pkt *p, uint16_t guest_port, const uint8_t *bytes, size_t size);
EMU_PRIV void dns_answer(struct nat *n, struct dns_query *q, const uint8_t *bytes, size_t size, const struct host_addr *from); /* from a resolver */
EMU_PRIV void dns_tick(struct nat *n, int64_t host_now);
EMU_PRIV void dns_destroy(struct nat *n);
EMU_PRIV size_t dns_resolvers(struct nat *n); /* refreshes n->resolvers */
EMU_PRIV size_t dns_encode_name(const char *name, uint8_t *out, size_t max); /* 0: does not fit or bad */
EMU_PRIV bool tftp_input(struct nat *n, struct pkt *p, uint16_t guest_port, uint16_t port, const uint8_t *bytes, size_t size); /* true: was for us */
EMU_PRIV void tftp_destroy(struct nat *n);

/* ---- nat.c ---- */
struct nat_hostfwd { /* a listening socket */
    struct nat *nat;
    struct nat_hostfwd *next;
    bool udp;
    host_fd fd;
    struct watch watch;
    struct host_addr listen;
    struct nat_addr guest; /* all zero: the first lease */
    uint16_t guest_port;
    int64_t paused_until_host_ns; /* out of descriptors: not watched until then */
};
struct nat_guestfwd {
    struct nat *nat;
    struct nat_guestfwd *next;
    struct nat_addr server;
    uint16_t port;
    char *argv_text; /* cmd: words, NUL between, two at the end; or NULL */
    char **argv;
    struct chr *chr;
    bool own_chr;          /* opened for this rule; ends with it */
    struct tcp_flow *flow; /* chardev: the one that has it */
};
enum { NAT_LEASES = 64, NAT_RESOLVERS = 8, NAT_QUEUE = 512, NAT_HASH = 1024 };
struct nat_lease {
    bool used;
    uint8_t mac[6];
    uint32_t ip;
    bool declined;
    int64_t until_ns; /* virtual */
};
struct nat_queued {
    uint8_t *bytes;
    size_t size;
};
struct nat {
    struct emu *emu;
    struct net_port port;
    struct nat *next; /* emu->nats */
    struct poll_hook hook;
    struct timer work, second; /* deferred work of this instant; a virtual second */
    int64_t next_tick_host_ns;
    /* configuration */
    bool ip4, ip6, restricted;
    uint32_t net4, mask4, host4, dns4, dhcp4;
    uint8_t net6[16], host6[16], dns6[16], link6[16]; /* link6: our link-local address */
    unsigned prefix6;
    uint8_t mac[6];
    unsigned mtu; /* of the guest's link, IP bytes */
    char *hostname, *domainname, *tftp, *tftp_server_name, *bootfile;
    uint8_t *search; /* option 119's value */
    size_t search_size;
    struct nat_hostfwd *hostfwds;
    struct nat_guestfwd *guestfwds;
    uint64_t secret[2];
    uint64_t random_state;
    /* the way to the guest */
    bool blocked; /* its NIC was full; kick() ends it */
    struct nat_queued queue[NAT_QUEUE];
    unsigned queue_first, queue_count;
    size_t queue_bytes;
    uint16_t next_id;
    uint8_t *flat;    /* a whole datagram of the guest's made contiguous; it may be looked at after something was sent */
    uint8_t *scratch; /* a datagram being built */
    uint8_t *frame;   /* a frame (or fragment) of it */
    struct arp_entry arp[ARP_ENTRIES];
    struct nat_lease leases[NAT_LEASES];
    struct ip_reassembly reassembly[IP_REASSEMBLIES];
    /* flows */
    struct tcp_flow *tcp_hash[NAT_HASH], *tcp_list, *tcp_work, *tcp_work_last;
    unsigned tcp_count;
    size_t tcp_ring_bytes; /* what the flows' rings may hold together */
    unsigned challenge_left; /* RFC 5961 §7, of this second */
    struct udp_flow *udp_hash[NAT_HASH], *udp_list;
    unsigned udp_count;
    struct icmp_flow *icmp_list;
    unsigned icmp_count;
    struct dns_query *dns_list;
    unsigned dns_count;
    struct host_addr resolvers[NAT_RESOLVERS];
    size_t resolver_count, resolver_good; /* good: the one that answered last */
    bool resolvers_fixed; /* a test's */
    int64_t resolvers_stamp, resolvers_host_ns;
    struct tftp_session *tftp_list;
    unsigned tftp_count;
    uint64_t bad_packets;
    bool said_ping, said_descriptors, said_resolvers, said_flows;
    unsigned ra_left; /* unsolicited router advertisements still to come quickly */
    unsigned seconds;
};
EMU_PRIV uint32_t nat_random(struct nat *n);
EMU_PRIV bool nat_is_ours(const struct nat *n, const struct nat_addr *a); /* host or dns or our link-local address */
EMU_PRIV struct nat_guestfwd *nat_find_guestfwd(struct nat *n, const struct nat_addr *a, uint16_t port);
EMU_PRIV bool nat_in_net(const struct nat *n, const struct nat_addr *a);
EMU_PRIV struct nat_addr nat_own_addr(const struct nat *n, bool v4);      /* the gateway's */
EMU_PRIV struct nat_addr nat_first_guest(const struct nat *n);
/* Guest's destination to the host's address; false: nobody (or not allowed). And what the guest is to see of a host's address. */
EMU_PRIV bool nat_to_host(struct nat *n, const struct nat_addr *a, uint16_t port, struct host_addr *out);
EMU_PRIV struct nat_addr nat_from_host(struct nat *n, const struct host_addr *a, bool want_v4);
EMU_PRIV void nat_format(const struct nat_addr *a, char *buf, size_t size);
EMU_PRIV void nat_work_soon(struct nat *n); /* tcp work at this instant, after the batch of frames under way */
EMU_PRIV void nat_no_descriptors(struct nat *n);

#endif
