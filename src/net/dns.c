/* net/dns.c - the name server that the guest sees: every question goes on to the host's resolvers.
 *
 * Models     RFC 1035 §4 (only the header and the question's bytes are looked at), RFC 5452 (an answer counts only from the server that was asked, with
 *            our random number and the same question).
 * Contract   udp.c hands in questions to the DNS address, port 53; TCP to it is tcp.c's, which asks dns_resolvers() for where to connect.
 * Theory     A question gets a socket of its own (a fresh source port) and a fresh number. The resolver that answered last is asked first; one that is
 *            silent for 1.5 s, unreachable, or answers "server failure" or "refused" is followed by the next, twice around. Answers are waited for
 *            until 10 s after the question; then, or where none could be asked, the guest is told "server failure". The host's list is read again
 *            when its stamp moves, so a host that roams keeps working.
 * Invariants 1. At most DNS_MAX questions are open; the oldest goes first.
 *            2. Answers pass unchanged but for the number: we rewrite no names and no addresses.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#define DNS_MAX 256u
#define DNS_TRY_NS (1500 * NS_PER_MS)
#define DNS_LIFE_NS (10 * NS_PER_SEC)
#define DNS_REREAD_NS NS_PER_SEC

enum { DNS_HEADER = 12, DNS_QUESTION_MAX = 4096, DNS_SERVFAIL = 2, DNS_REFUSED = 5 };

struct dns_query {
    struct nat *nat;
    struct dns_query *next;
    struct nat_addr guest, server; /* server: as the guest addressed it */
    uint16_t guest_port, guest_id, id;
    host_fd fd;
    int family;
    struct watch watch;
    size_t resolver; /* the one being asked */
    unsigned tries;
    int64_t next_host_ns, end_host_ns;
    size_t size;
    uint8_t bytes[DNS_QUESTION_MAX]; /* with our number */
};

EMU_PRIV size_t dns_encode_name(const char *name, uint8_t *out, size_t max)
{
    size_t size = 0;
    while (*name) {
        const char *dot = strchr(name, '.');
        size_t part = dot ? (size_t)(dot - name) : strlen(name);
        if (!part || part > 63 || size + part + 2 > max)
            return 0;
        out[size++] = (uint8_t)part;
        memcpy(out + size, name, part);
        size += part;
        name += part + (dot ? 1 : 0);
    }
    if (!size || size + 1 > max)
        return 0;
    out[size++] = 0;
    return size;
}

EMU_PRIV size_t dns_resolvers(struct nat *n)
{
    int64_t now = host_clock_ns(), stamp = 0;
    int r;
    if (n->resolvers_fixed || (n->resolvers_host_ns && now - n->resolvers_host_ns < DNS_REREAD_NS))
        return n->resolver_count;
    n->resolvers_host_ns = now;
    r = host_resolvers(n->resolvers, NAT_RESOLVERS, &stamp);
    n->resolver_count = r > 0 ? (size_t)r : 0;
    if (stamp != n->resolvers_stamp)
        n->resolver_good = 0;
    n->resolvers_stamp = stamp;
    if (!n->resolver_count)
        emu_log_once(n->emu, &n->said_resolvers, LOG_NOTICE, "%s: the host has no name server; the guest's DNS questions fail", n->port.name);
    return n->resolver_count;
}

static void dns_free(struct dns_query *q)
{
    struct nat *n = q->nat;
    struct dns_query **at = &n->dns_list;
    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    n->dns_count--;
    if (q->fd != HOST_FD_NONE) {
        watch_remove(n->emu, &q->watch);
        host_fd_close(q->fd);
    }
    emu_free(n->emu, q);
}

/* "Server failure", with the question in it. */
static void dns_fail(struct dns_query *q)
{
    uint8_t *m = q->bytes;
    st16be(m, q->guest_id);
    m[2] = (uint8_t)(0x80 | (m[2] & 0x79)); /* answer, same operation and recursion bit */
    m[3] = 0x80 | DNS_SERVFAIL;
    st16be(m + 6, 0);
    st16be(m + 8, 0);
    if (ld16be(m + 10)) { /* EDNS: the additional part is left out, the count says so */
        size_t at = DNS_HEADER;
        while (at < q->size && m[at] && m[at] < 64)
            at += m[at] + (size_t)1;
        at += 5;
        if (ld16be(m + 4) == 1 && at <= q->size)
            q->size = at;
        st16be(m + 10, 0);
    }
    udp_send(q->nat, &q->server, 53, &q->guest, q->guest_port, NULL, m, q->size);
    dns_free(q);
}

static void dns_ready(void *opaque, unsigned events);

/* Asks the next resolver that can be asked; the question may end here. */
static void dns_ask(struct dns_query *q)
{
    struct nat *n = q->nat;
    size_t count = dns_resolvers(n);
    while (q->tries < 2 * count) {
        const struct host_addr *to = &n->resolvers[(n->resolver_good + q->tries) % count];
        q->resolver = (n->resolver_good + q->tries) % count;
        q->tries++;
        if (q->fd != HOST_FD_NONE && q->family != to->family) {
            watch_remove(n->emu, &q->watch);
            host_fd_close(q->fd);
            q->fd = HOST_FD_NONE;
        }
        if (q->fd == HOST_FD_NONE) {
            if (host_socket(&q->fd, to->family, HOST_DGRAM)) {
                q->fd = HOST_FD_NONE;
                continue;
            }
            q->family = to->family;
            host_set_option(q->fd, HOST_OPT_RECVERR, 1);
            watch_add(n->emu, &q->watch, q->fd, HOST_READ, dns_ready, q);
        }
        if (host_send_to(q->fd, q->bytes, q->size, to) >= 0) {
            q->next_host_ns = host_clock_ns() + DNS_TRY_NS;
            emu_poll_now(n->emu);
            return;
        }
    }
    dns_fail(q);
}

EMU_PRIV void dns_answer(struct nat *n, struct dns_query *q, const uint8_t *m, size_t size, const struct host_addr *from)
{
    size_t i, at = DNS_HEADER;
    unsigned code;
    bool asked = false;
    for (i = 0; i < n->resolver_count; i++)
        asked = asked || (from->family == n->resolvers[i].family && from->port == n->resolvers[i].port && !memcmp(from->ip, n->resolvers[i].ip, 16));
    if (!asked || size < DNS_HEADER || ld16be(m) != q->id || !(m[2] & 0x80))
        return;
    if (ld16be(m + 4) == 1 && ld16be(q->bytes + 4) == 1) { /* the question must be ours; letters' case may differ */
        while (at < q->size && q->bytes[at] && q->bytes[at] < 64)
            at += q->bytes[at] + (size_t)1;
        at += 5;
        if (at > q->size || at > size)
            return;
        for (i = DNS_HEADER; i < at; i++) {
            uint8_t a = q->bytes[i], b = m[i];
            if (a >= 'A' && a <= 'Z')
                a = (uint8_t)(a + 32);
            if (b >= 'A' && b <= 'Z')
                b = (uint8_t)(b + 32);
            if (a != b)
                return;
        }
    }
    code = m[3] & 15;
    if ((code == DNS_SERVFAIL || code == DNS_REFUSED) && q->tries < n->resolver_count) {
        dns_ask(q);
        return;
    }
    if (code != DNS_SERVFAIL && code != DNS_REFUSED)
        n->resolver_good = q->resolver < n->resolver_count ? q->resolver : 0;
    if (size > NAT_L4_MAX - 64)
        return;
    memmove(n->scratch + 8, m, size);
    st16be(n->scratch + 8, q->guest_id);
    udp_send(n, &q->server, 53, &q->guest, q->guest_port, NULL, n->scratch + 8, size);
    dns_free(q);
}

static void dns_ready(void *opaque, unsigned events)
{
    struct dns_query *q = opaque;
    struct nat *n = q->nat;
    struct host_addr from;
    struct host_icmp_error e;
    int got;
    (void)events;
    memset(&from, 0, sizeof from);
    got = host_recv_from(q->fd, n->scratch + 8, NAT_L4_MAX, &from);
    if (got >= 0) {
        dns_answer(n, q, n->scratch + 8, (size_t)got, &from);
        return;
    }
    while (!host_recv_error(q->fd, &e)) {
    }
    if (got != EMU_EAGAIN || (events & HOST_ERROR)) /* that one is not there */
        dns_ask(q);
}

EMU_PRIV void dns_input(struct nat *n, struct pkt *p, uint16_t guest_port, const uint8_t *bytes, size_t size)
{
    struct dns_query *q, *oldest;
    if (size < DNS_HEADER || size > DNS_QUESTION_MAX || (bytes[2] & 0x80))
        return;
    for (q = n->dns_list; q; q = q->next) /* asked again while we still wait */
        if (q->guest_port == guest_port && q->guest_id == ld16be(bytes) && nat_addr_eq(&q->guest, &p->src) && q->size == size)
            return;
    if (n->dns_count >= DNS_MAX) {
        for (oldest = n->dns_list; oldest->next; oldest = oldest->next) {
        }
        dns_free(oldest);
    }
    q = emu_alloc(n->emu, sizeof *q);
    if (!q)
        return;
    q->nat = n;
    q->guest = p->src;
    q->server = p->dst;
    q->guest_port = guest_port;
    q->guest_id = ld16be(bytes);
    q->id = (uint16_t)nat_random(n);
    q->fd = HOST_FD_NONE;
    q->size = size;
    memcpy(q->bytes, bytes, size);
    st16be(q->bytes, q->id);
    q->end_host_ns = host_clock_ns() + DNS_LIFE_NS;
    q->next = n->dns_list;
    n->dns_list = q;
    n->dns_count++;
    dns_ask(q);
}

EMU_PRIV void dns_tick(struct nat *n, int64_t host_now)
{
    struct dns_query *q, *next;
    for (q = n->dns_list; q; q = next) {
        next = q->next;
        if (host_now >= q->end_host_ns)
            dns_fail(q);
        else if (host_now >= q->next_host_ns && q->tries < 2 * dns_resolvers(n))
            dns_ask(q); /* after the last time an answer may still come */
    }
}

EMU_PRIV void dns_destroy(struct nat *n)
{
    while (n->dns_list)
        dns_free(n->dns_list);
}
#undef DNS_MAX
#undef DNS_TRY_NS
#undef DNS_LIFE_NS
#undef DNS_REREAD_NS
