/* net/nat.c - the user network: options, the port, forwarded ports, and what its protocols share.
 *
 * Models     The options of -netdev user as QEMU's manual gives them, with the additions of ours that the man page marks.
 * Contract   link.c creates one per -netdev user through netdev_user_create(); the monitor calls nat_hostfwd_add(), nat_hostfwd_remove() and
 *            nat_print_info(). Frames come in through the port's receive(), leave through net_send().
 * Theory     No privileges: every connection, datagram and echo of the guest's becomes a call on an ordinary socket of the host's. TCP work is put off to
 *            the work timer (deadline: now), so that a burst of frames is answered once. Once a host second the tick looks at what waits for the
 *            host (connects, DNS, idle UDP); once a virtual second at what waits for the guest (reassembly, TFTP, RA).
 * Invariants 1. A frame is never given to the port while n->blocked; kick() ends that, or a retry if a kick got lost.
 *            2. All flows, queries and sessions die with the nat.
 * Missing    smb= (said so).
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#define NAT_TICK_NS (250 * NS_PER_MS)
#define NAT_RETRY_NS (20 * NS_PER_MS)
#define NAT_CHALLENGES 100u /* a second: RFC 5961 §7 */

/* ---- small helpers ---- */

EMU_PRIV uint32_t nat_random(struct nat *n)
{
    uint8_t counter[8];
    st64le(counter, n->random_state++);
    return (uint32_t)nat_siphash(n->secret, counter, sizeof counter);
}

EMU_PRIV bool nat_is_ours(const struct nat *n, const struct nat_addr *a)
{
    if (nat_is_v4(a))
        return n->ip4 && (nat_get_v4(a) == n->host4 || nat_get_v4(a) == n->dns4);
    return n->ip6 && (!memcmp(a->b, n->host6, 16) || !memcmp(a->b, n->dns6, 16) || !memcmp(a->b, n->link6, 16));
}

EMU_PRIV bool nat_in_net(const struct nat *n, const struct nat_addr *a)
{
    unsigned whole = n->prefix6 / 8, bits = n->prefix6 % 8;
    if (nat_is_v4(a))
        return n->ip4 && (nat_get_v4(a) & n->mask4) == n->net4;
    if (!n->ip6)
        return false;
    if (a->b[0] == 0xFE && (a->b[1] & 0xC0) == 0x80)
        return true;
    return !memcmp(a->b, n->net6, whole) && (!bits || ((a->b[whole] ^ n->net6[whole]) >> (8 - bits)) == 0);
}

EMU_PRIV struct nat_addr nat_own_addr(const struct nat *n, bool v4) { return v4 ? nat_v4(n->host4) : nat_v6(n->host6); }

EMU_PRIV struct nat_addr nat_first_guest(const struct nat *n)
{
    unsigned i;
    if (n->ip4) {
        for (i = 0; i < NAT_LEASES; i++) /* a guest may have asked for another address than the first */
            if (n->leases[i].used && !n->leases[i].declined && n->leases[i].until_ns > emu_now_ns(n->emu))
                return nat_v4(n->leases[i].ip);
        return nat_v4(n->dhcp4);
    }
    for (i = 0; i < ARP_ENTRIES; i++) /* IPv6 alone: the guest chose its address itself */
        if (n->arp[i].used && n->arp[i].known && !nat_is_v4(&n->arp[i].ip) && (n->arp[i].ip.b[0] != 0xFE || n->arp[i].ip.b[1] >= 0xC0))
            return n->arp[i].ip;
    return nat_v6(n->net6);
}

EMU_PRIV struct nat_guestfwd *nat_find_guestfwd(struct nat *n, const struct nat_addr *a, uint16_t port)
{
    struct nat_guestfwd *g;
    for (g = n->guestfwds; g; g = g->next)
        if (nat_addr_eq(&g->server, a) && (!port || g->port == port))
            return g;
    return NULL;
}

EMU_PRIV bool nat_to_host(struct nat *n, const struct nat_addr *a, uint16_t port, struct host_addr *out)
{
    memset(out, 0, sizeof *out);
    out->port = port;
    if (n->restricted)
        return false;
    if (nat_is_v4(a)) {
        out->family = HOST_INET;
        if (nat_get_v4(a) == n->host4)
            st32be(out->ip, UINT32_C(0x7F000001));
        else if (nat_in_net(n, a))
            return false;
        else
            st32be(out->ip, nat_get_v4(a));
        return true;
    }
    out->family = HOST_INET6;
    if (!memcmp(a->b, n->host6, 16) || !memcmp(a->b, n->link6, 16))
        out->ip[15] = 1;
    else if (nat_in_net(n, a))
        return false;
    else
        memcpy(out->ip, a->b, 16);
    return true;
}

EMU_PRIV struct nat_addr nat_from_host(struct nat *n, const struct host_addr *a, bool want_v4)
{
    static const uint8_t loopback6[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };
    struct nat_addr seen = nat_own_addr(n, want_v4);
    if (a->family == HOST_INET && want_v4 && a->ip[0] != 127 && ld32be(a->ip))
        seen = nat_v4(ld32be(a->ip));
    else if (a->family == HOST_INET6 && memcmp(a->ip, loopback6, 16)) {
        struct nat_addr mapped = nat_v6(a->ip);
        if (nat_is_v4(&mapped)) {
            if (want_v4 && a->ip[12] != 127)
                seen = mapped;
        } else if (!want_v4) {
            seen = mapped;
        }
    }
    return nat_in_net(n, &seen) ? nat_own_addr(n, want_v4) : seen;
}

EMU_PRIV void nat_format(const struct nat_addr *a, char *buf, size_t size)
{
    struct host_addr h;
    char text[80], *end;
    memset(&h, 0, sizeof h);
    if (nat_is_v4(a)) {
        snprintf(buf, size, "%u.%u.%u.%u", a->b[12], a->b[13], a->b[14], a->b[15]);
        return;
    }
    h.family = HOST_INET6;
    memcpy(h.ip, a->b, 16);
    host_addr_format(&h, text, sizeof text);
    end = strrchr(text, ':');
    if (end)
        *end = 0;
    snprintf(buf, size, "%.46s", text);
}

EMU_PRIV void nat_no_descriptors(struct nat *n)
{
    emu_log_once(n->emu, &n->said_descriptors, LOG_NOTICE, "%s: the host gives no more sockets (ulimit -n); further connections of the guest are refused", n->port.name);
}

EMU_PRIV void nat_work_soon(struct nat *n)
{
    int64_t at = emu_now_ns(n->emu) + (n->blocked ? NAT_RETRY_NS : 0);
    if (!timer_armed(&n->work) || n->work.deadline_ns > at)
        timer_arm(&n->work, at);
}

/* ---- the port ---- */

/* What waited for the guest's NIC, in order. */
static void nat_drain(struct nat *n)
{
    n->blocked = false;
    while (n->queue_count) {
        struct nat_queued *q = &n->queue[n->queue_first];
        struct host_iov piece;
        struct net_frame f;
        memset(&f, 0, sizeof f);
        piece.base = q->bytes;
        piece.size = q->size;
        f.pieces = &piece;
        f.count = 1;
        f.size = q->size;
        f.csum_valid = true;
        if (!net_send(&n->port, &f)) {
            n->blocked = true;
            nat_work_soon(n);
            return;
        }
        n->queue_bytes -= q->size;
        emu_free(n->emu, q->bytes);
        q->bytes = NULL;
        n->queue_first = (n->queue_first + 1) % NAT_QUEUE;
        n->queue_count--;
    }
}

static void nat_on_work(void *opaque)
{
    struct nat *n = opaque;
    nat_drain(n);
    tcp_kick(n);
}

static void nat_port_kick(struct net_port *p)
{
    struct nat *n = p->opaque;
    if (n->blocked || n->queue_count) {
        n->blocked = false;
        nat_work_soon(n);
    }
}

static int nat_port_receive(struct net_port *p, const struct net_frame *f)
{
    struct nat *n = p->opaque;
    struct pkt k;
    const uint8_t *e;
    pkt_init(&k, f);
    e = pkt_bytes(&k, 0, NAT_ETHER_BYTES);
    if (!e)
        return 1;
    memcpy(k.src_mac, e + 6, 6);
    if ((e[6] & 1) || !memcmp(e + 6, n->mac, 6))
        return 1;
    if (!(e[0] & 1) && memcmp(e, n->mac, 6)) /* another guest's, on a hub */
        return 1;
    switch (ld16be(e + 12)) {
    case NAT_ETHERTYPE_ARP: arp_input(n, &k); break;
    case NAT_ETHERTYPE_IP4: ip_input(n, &k); break;
    case NAT_ETHERTYPE_IP6: ip6_input(n, &k); break;
    default: break;
    }
    return 1;
}

static void nat_port_info(struct net_port *p, struct buf *out)
{
    struct nat *n = p->opaque;
    struct nat_addr net = nat_v4(n->net4);
    char text[64];
    nat_format(&net, text, sizeof text);
    buf_printf(out, "net=%s,restrict=%s", n->ip4 ? text : "none", n->restricted ? "on" : "off");
}

static void nat_on_second(void *opaque)
{
    struct nat *n = opaque;
    n->challenge_left = NAT_CHALLENGES;
    n->seconds++;
    ip_timeout(n);
    if (n->ip6 && (n->seconds % 200 == 0 || (n->ra_left && n->seconds % 4 == 1))) {
        if (n->ra_left)
            n->ra_left--;
        ip6_advertise(n);
    }
    timer_arm(&n->second, emu_now_ns(n->emu) + NS_PER_SEC);
}

static void nat_on_poll(void *opaque)
{
    struct nat *n = opaque;
    int64_t now = host_clock_ns();
    struct nat_hostfwd *f;
    if (now < n->next_tick_host_ns)
        return;
    n->next_tick_host_ns = now + NAT_TICK_NS;
    tcp_tick(n, now);
    udp_tick(n, now);
    icmp_tick(n, now);
    dns_tick(n, now);
    for (f = n->hostfwds; f; f = f->next)
        if (f->paused_until_host_ns && now >= f->paused_until_host_ns) {
            f->paused_until_host_ns = 0;
            watch_want(&f->watch, HOST_READ);
        }
}

/* ---- hostfwd ---- */

static void nat_hostfwd_ready(void *opaque, unsigned events)
{
    struct nat_hostfwd *f = opaque;
    int i;
    (void)events;
    if (f->udp) {
        udp_forwarded(f->nat, f);
        return;
    }
    for (i = 0; i < 32; i++) {
        struct host_addr peer;
        host_fd fd;
        int r;
        memset(&peer, 0, sizeof peer);
        r = host_accept(f->fd, &fd, &peer);
        if (r == EMU_EAGAIN)
            return;
        if (r < 0) { /* out of descriptors: looking again at once would spin */
            nat_no_descriptors(f->nat);
            f->paused_until_host_ns = host_clock_ns() + NS_PER_SEC;
            watch_want(&f->watch, 0);
            return;
        }
        tcp_accept(f->nat, f, fd, &peer);
    }
}

static void nat_hostfwd_free(struct nat *n, struct nat_hostfwd *f)
{
    if (f->fd != HOST_FD_NONE) {
        watch_remove(n->emu, &f->watch);
        host_fd_close(f->fd);
    }
    if (f->listen.family == HOST_UNIX)
        host_path_remove(f->listen.path);
    emu_free(n->emu, f);
}

/* "addr:port" or "[v6]:port" or ":port"; *end behind it. Port 0..65535. */
static bool nat_parse_endpoint(const char *text, const char *end, char *addr, size_t addr_size, unsigned *port)
{
    const char *colon = NULL, *p;
    uint64_t v;
    char digits[8];
    for (p = end; p > text; p--)
        if (p[-1] == ':') {
            colon = p - 1;
            break;
        }
    if (!colon || (size_t)(colon - text) >= addr_size || end - colon - 1 >= (ptrdiff_t)sizeof digits)
        return false;
    memcpy(addr, text, (size_t)(colon - text));
    addr[colon - text] = 0;
    memcpy(digits, colon + 1, (size_t)(end - colon - 1));
    digits[end - colon - 1] = 0;
    if (parse_u64(digits, 0, 9999999, &v))
        return false;
    *port = (unsigned)v;
    return true;
}

static bool nat_addr_from_text(const char *text, struct nat_addr *out)
{
    struct host_addr h;
    if (!host_addr_parse(text, &h))
        return false;
    *out = h.family == HOST_INET ? nat_v4(ld32be(h.ip)) : nat_v6(h.ip);
    return true;
}

struct nat_rule {
    bool udp;
    struct host_addr listen;
    struct nat_addr guest;
    uint16_t guest_port;
};

static int nat_parse_rule(struct nat *n, const char *rule, bool with_guest, struct nat_rule *out, struct err *err)
{
    static const char form[] = "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport";
    const char *rest, *dash, *p;
    char addr[128];
    unsigned port;
    memset(out, 0, sizeof *out);
    if (!strncmp(rule, "unix:", 5)) {
        rest = rule + 5;
        dash = with_guest ? strrchr(rest, '-') : rest + strlen(rest);
        if (!dash || dash == rest || (size_t)(dash - rest) >= sizeof out->listen.path)
            return err_set(err, EMU_EINVAL, "hostfwd=%s: wanted unix:/path-[guestaddr]:guestport, the path shorter than %u characters", rule,
                           (unsigned)sizeof out->listen.path);
        out->listen.family = HOST_UNIX;
        memcpy(out->listen.path, rest, (size_t)(dash - rest));
    } else {
        if (!strncmp(rule, "udp:", 4))
            out->udp = true;
        else if (strncmp(rule, "tcp:", 4) && rule[0] != ':')
            return err_set(err, EMU_EINVAL, "hostfwd=%s: unknown protocol; wanted %s", rule, form);
        rest = strchr(rule, ':') + 1;
        for (p = rest, dash = NULL; *p && !dash; p++) { /* a dash outside brackets (a scope's name may hold one) */
            if (*p == '[' && strchr(p, ']'))
                p = strchr(p, ']');
            else if (*p == '-')
                dash = p;
        }
        if (!with_guest)
            dash = rest + strlen(rest);
        if (!dash || !nat_parse_endpoint(rest, dash, addr, sizeof addr, &port))
            return err_set(err, EMU_EINVAL, "hostfwd=%s: wanted %s", rule, with_guest ? form : "[tcp|udp]:[hostaddr]:hostport");
        if (port > 65535)
            return err_set(err, EMU_EINVAL, "hostfwd=%s: host port %u is not between 0 and 65535", rule, port);
        if (!addr[0])
            out->listen.family = HOST_INET;
        else if (!host_addr_parse(addr, &out->listen))
            return err_set(err, EMU_EINVAL, "hostfwd=%s: \"%s\" is not an IP address of the host's", rule, addr);
        out->listen.port = (uint16_t)port;
    }
    if (!with_guest)
        return 0;
    if (!nat_parse_endpoint(dash + 1, dash + strlen(dash), addr, sizeof addr, &port))
        return err_set(err, EMU_EINVAL, "hostfwd=%s: wanted %s", rule, form);
    if (!port || port > 65535)
        return err_set(err, EMU_EINVAL, "hostfwd=%s: guest port %u is not between 1 and 65535", rule, port);
    out->guest_port = (uint16_t)port;
    if (addr[0] && !nat_addr_from_text(addr, &out->guest))
        return err_set(err, EMU_EINVAL, "hostfwd=%s: \"%s\" is not an IP address of the guest's", rule, addr);
    if (addr[0] && !nat_in_net(n, &out->guest))
        return err_set(err, EMU_EINVAL, "hostfwd=%s: guest address %s is not in this network", rule, addr);
    return 0;
}

static int nat_hostfwd_open(struct nat *n, const char *rule, struct err *err)
{
    struct nat_rule r;
    struct nat_hostfwd *f, **end;
    char text[160];
    host_fd fd;
    int code = nat_parse_rule(n, rule, true, &r, err);
    if (code)
        return code;
    if (r.listen.family == HOST_UNIX) { /* a socket that nobody listens on is a leftover; anything else is somebody's */
        enum host_file_kind kind = host_path_kind(r.listen.path);
        if (kind == HOST_KIND_SOCKET) {
            if (!host_socket(&fd, HOST_UNIX, HOST_STREAM)) {
                code = host_connect(fd, &r.listen);
                host_fd_close(fd);
                if (!code || code == EMU_EAGAIN)
                    return err_set(err, EMU_EADDRINUSE, "hostfwd=%s: %s is in use by another program", rule, r.listen.path);
            }
            host_path_remove(r.listen.path);
        } else if (kind != HOST_KIND_NONE) {
            return err_set(err, EMU_EEXIST, "hostfwd=%s: %s exists and is no socket; remove it or choose another path", rule, r.listen.path);
        }
    }
    code = host_socket(&fd, r.listen.family, r.udp ? HOST_DGRAM : HOST_STREAM);
    if (code)
        return err_set(err, code, "hostfwd=%s: the host gives no such socket: %s", rule, emu_strerror(code));
    if (r.listen.family == HOST_INET6)
        host_set_option(fd, HOST_OPT_V6ONLY, 1);
    code = host_bind(fd, &r.listen, !r.udp);
    if (!code && !r.udp)
        code = host_listen(fd, 128);
    if (code) {
        host_fd_close(fd);
        host_addr_format(&r.listen, text, sizeof text);
        if (code == EMU_EADDRINUSE || code == EMU_EBUSY)
            return err_set(err, code, "hostfwd=%s: %s is in use by another program; choose another host port", rule, text);
        if (code == EMU_EACCES)
            return err_set(err, code, "hostfwd=%s: no permission to listen on %s; choose a host port above 1023", rule, text);
        return err_set(err, code, "hostfwd=%s: cannot listen on %s: %s", rule, text, emu_strerror(code));
    }
    f = emu_alloc(n->emu, sizeof *f);
    if (!f) {
        host_fd_close(fd);
        return err_set(err, EMU_ENOMEM, "out of memory");
    }
    f->nat = n;
    f->udp = r.udp;
    f->fd = fd;
    f->listen = r.listen;
    f->guest = r.guest;
    f->guest_port = r.guest_port;
    if (r.listen.family != HOST_UNIX && !r.listen.port) {
        host_local_addr(fd, &f->listen);
        host_addr_format(&f->listen, text, sizeof text);
        emu_log(n->emu, LOG_NOTICE, "%s: hostfwd=%s: the host's %s was chosen", n->port.name, rule, text);
    }
    watch_add(n->emu, &f->watch, fd, HOST_READ, nat_hostfwd_ready, f);
    for (end = &n->hostfwds; *end; end = &(*end)->next) {
    }
    *end = f;
    return 0;
}

static struct nat *nat_by_name(struct emu *e, const char *name, struct err *err)
{
    struct nat *n;
    if (!e->nats) {
        err_set(err, EMU_ENOENT, "there is no user network (-netdev user)");
        return NULL;
    }
    if (!name)
        return e->nats;
    for (n = e->nats; n; n = n->next)
        if (!strcmp(n->port.name, name))
            return n;
    err_set(err, EMU_ENOENT, "there is no user network with id %s", name);
    return NULL;
}

EMU_PRIV int nat_hostfwd_add(struct emu *e, const char *netdev, const char *rule, struct err *err)
{
    struct nat *n = nat_by_name(e, netdev, err);
    return n ? nat_hostfwd_open(n, rule, err) : EMU_ENOENT;
}

EMU_PRIV int nat_hostfwd_remove(struct emu *e, const char *netdev, const char *rule, struct err *err)
{
    struct nat *n = nat_by_name(e, netdev, err);
    struct nat_rule r;
    struct nat_hostfwd **at, *f;
    int code;
    if (!n)
        return EMU_ENOENT;
    if ((code = nat_parse_rule(n, rule, false, &r, err)))
        return code;
    for (at = &n->hostfwds; (f = *at); at = &f->next)
        if (f->udp == r.udp && f->listen.family == r.listen.family && f->listen.port == r.listen.port && !memcmp(f->listen.ip, r.listen.ip, 16) &&
            !strcmp(f->listen.path, r.listen.path)) {
            *at = f->next;
            udp_forget(n, f);
            nat_hostfwd_free(n, f);
            return 0;
        }
    return err_set(err, EMU_ENOENT, "host forwarding rule for %s not found", rule);
}

EMU_PRIV void nat_print_info(struct emu *e, struct buf *out)
{
    struct nat *n;
    char source[128], guest[64];
    for (n = e->nats; n; n = n->next) {
        struct nat_hostfwd *f;
        buf_printf(out, "%s:\n  Protocol[State]      FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n", n->port.name);
        for (f = n->hostfwds; f; f = f->next) {
            struct nat_addr to = f->guest, zero;
            char *colon;
            memset(&zero, 0, sizeof zero);
            if (nat_addr_eq(&to, &zero))
                to = nat_first_guest(n);
            nat_format(&to, guest, sizeof guest);
            host_addr_format(&f->listen, source, sizeof source);
            colon = strrchr(source, ':');
            if (f->listen.family != HOST_UNIX && colon)
                *colon = 0;
            if (!strcmp(source, "0.0.0.0"))
                snprintf(source, sizeof source, "*");
            buf_printf(out, "  %-19s %3d %15s %5u %15s %5u %5u %5u\n", f->udp ? "UDP[HOST_FORWARD]" : "TCP[HOST_FORWARD]", (int)f->fd, source, f->listen.port, guest,
                       f->guest_port, 0u, 0u);
        }
        tcp_print_info(n, out);
        udp_print_info(n, out);
        icmp_print_info(n, out);
    }
}

/* ---- guestfwd ---- */

static int nat_guestfwd_open(struct nat *n, const char *rule, struct err *err)
{
    const char *text = rule, *dash;
    char addr[128], id[96];
    unsigned port = 0;
    struct nat_guestfwd *g;
    size_t words = 0, i, size;
    char *p;
    if (!strncmp(text, "tcp:", 4))
        text += 4;
    else if (*text == ':')
        text++;
    for (dash = text; *dash && *dash != '-'; dash++)
        if (*dash == '[' && strchr(dash, ']'))
            dash = strchr(dash, ']');
    if (!*dash || !dash[1] || !nat_parse_endpoint(text, dash, addr, sizeof addr, &port) || !port || port > 65535)
        return err_set(err, EMU_EINVAL, "guestfwd=%s: wanted [tcp]:[server]:port-chardev or [tcp]:[server]:port-cmd:PROGRAM ARGUMENTS", rule);
    g = emu_alloc(n->emu, sizeof *g);
    if (!g)
        return err_set(err, EMU_ENOMEM, "out of memory");
    g->nat = n;
    g->port = (uint16_t)port;
    g->server = nat_v4(n->net4 | (UINT32_C(4) & ~n->mask4)); /* the manual's 10.0.2.4 */
    g->next = n->guestfwds;
    n->guestfwds = g;
    if (addr[0] && !nat_addr_from_text(addr, &g->server))
        return err_set(err, EMU_EINVAL, "guestfwd=%s: \"%s\" is not an IP address", rule, addr);
    if (!nat_in_net(n, &g->server) || (nat_is_ours(n, &g->server) && g->port == 53))
        return err_set(err, EMU_EINVAL, "guestfwd=%s: the server address must lie in the guest's network, and not be its DNS", rule);
    dash++;
    if (!strncmp(dash, "cmd:", 4)) {
        size = strlen(dash + 4);
        g->argv_text = emu_alloc(n->emu, size + 2);
        g->argv = emu_alloc(n->emu, (size / 2 + 2) * sizeof *g->argv);
        if (!g->argv_text || !g->argv)
            return err_set(err, EMU_ENOMEM, "out of memory");
        memcpy(g->argv_text, dash + 4, size);
        for (i = 0, p = g->argv_text; i <= size; i++)
            if (g->argv_text[i] == ' ' || !g->argv_text[i]) {
                g->argv_text[i] = 0;
                if (*p)
                    g->argv[words++] = p;
                p = g->argv_text + i + 1;
            }
        if (!words)
            return err_set(err, EMU_EINVAL, "guestfwd=%s: cmd: needs a program", rule);
        return 0;
    }
    if (!strncmp(dash, "chardev:", 8))
        dash += 8;
    g->chr = chr_find(n->emu, dash);
    if (!g->chr) {
        snprintf(id, sizeof id, "%s.guestfwd%u", n->port.name, port);
        g->chr = chr_open(n->emu, id, dash, err);
        if (!g->chr)
            return err_prefix(err, EMU_ENOENT, "guestfwd=%s", rule);
        g->own_chr = !g->chr->in_use && strncmp(dash, "mon:", 4) && strncmp(dash, "chardev:", 8);
    }
    if (g->chr->in_use) {
        g->chr = NULL; /* somebody else's: ours to leave alone */
        return err_set(err, EMU_EBUSY, "guestfwd=%s: chardev %s is in use", rule, dash);
    }
    g->chr->in_use = true;
    return 0;
}

/* ---- creation ---- */

static void nat_destroy(struct nat *n)
{
    struct emu *e = n->emu;
    struct nat **at;
    timer_cancel(&n->work);
    timer_cancel(&n->second);
    poll_hook_remove(e, &n->hook);
    tcp_destroy(n);
    timer_cancel(&n->work);
    udp_destroy(n);
    icmp_destroy(n);
    dns_destroy(n);
    tftp_destroy(n);
    ip_destroy(n);
    arp_destroy(n);
    while (n->hostfwds) {
        struct nat_hostfwd *f = n->hostfwds;
        n->hostfwds = f->next;
        nat_hostfwd_free(n, f);
    }
    while (n->guestfwds) {
        struct nat_guestfwd *g = n->guestfwds;
        n->guestfwds = g->next;
        if (g->chr) {
            g->chr->in_use = false;
            tcp_close_guestfwd(n, g);
            if (g->own_chr)
                chr_close(g->chr);
        }
        emu_free(e, g->argv);
        emu_free(e, g->argv_text);
        emu_free(e, g);
    }
    while (n->queue_count) {
        emu_free(e, n->queue[n->queue_first].bytes);
        n->queue_first = (n->queue_first + 1) % NAT_QUEUE;
        n->queue_count--;
    }
    net_port_unregister(e, &n->port);
    for (at = &e->nats; *at; at = &(*at)->next)
        if (*at == n) {
            *at = n->next;
            break;
        }
    emu_free(e, n->hostname);
    emu_free(e, n->domainname);
    emu_free(e, n->tftp);
    emu_free(e, n->tftp_server_name);
    emu_free(e, n->bootfile);
    emu_free(e, n->search);
    emu_free(e, n->flat);
    emu_free(e, n->scratch);
    emu_free(e, n->frame);
    emu_free(e, n);
}

static void nat_port_destroy(struct net_port *p) { nat_destroy(p->opaque); }

/* An IPv4 address option inside the network; *value unchanged where it is absent. */
static int nat_option_v4(struct options *o, const char *key, uint32_t *value, struct err *err)
{
    const char *text = options_get(o, key);
    struct host_addr a;
    if (!text)
        return 0;
    if (!host_addr_parse(text, &a) || a.family != HOST_INET)
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not an IPv4 address", o->origin, key, text);
    *value = ld32be(a.ip);
    return 0;
}

static int nat_option_v6(struct options *o, const char *key, uint8_t value[16], struct err *err)
{
    const char *text = options_get(o, key);
    struct host_addr a;
    if (!text)
        return 0;
    if (!host_addr_parse(text, &a) || a.family != HOST_INET6)
        return err_set(err, EMU_EINVAL, "%s: %s=%s is not an IPv6 address", o->origin, key, text);
    memcpy(value, a.ip, 16);
    return 0;
}

static int nat_options_v4(struct nat *n, struct options *o, struct err *err)
{
    const char *net = options_get(o, "net"), *slash;
    uint64_t bits = 24;
    int r;
    n->net4 = UINT32_C(0x0A000200);
    if (net) {
        char addr[64];
        struct host_addr a;
        slash = strchr(net, '/');
        snprintf(addr, sizeof addr, "%.*s", (int)(slash ? EMU_MIN(slash - net, 63) : 63), net);
        if (!host_addr_parse(addr, &a) || a.family != HOST_INET)
            return err_set(err, EMU_EINVAL, "%s: net=%s: wanted an IPv4 network, as 10.0.2.0/24", o->origin, net);
        n->net4 = ld32be(a.ip);
        if (slash && strchr(slash, '.')) {
            uint32_t inverse;
            if (!host_addr_parse(slash + 1, &a) || a.family != HOST_INET)
                return err_set(err, EMU_EINVAL, "%s: net=%s: the mask is neither a number of bits nor an address", o->origin, net);
            inverse = ~ld32be(a.ip);
            if (inverse & (inverse + 1))
                return err_set(err, EMU_EINVAL, "%s: net=%s: the mask has holes", o->origin, net);
            for (bits = 32; inverse; inverse >>= 1)
                bits--;
        } else if (slash && parse_u64(slash + 1, 0, 32, &bits)) {
            return err_set(err, EMU_EINVAL, "%s: net=%s: the mask is neither a number of bits nor an address", o->origin, net);
        }
        if (bits < 4 || bits > 29)
            return err_set(err, EMU_EINVAL, "%s: net=%s: the mask must have 4 to 29 bits", o->origin, net);
    }
    n->mask4 = ~(UINT32_MAX >> bits);
    n->net4 &= n->mask4;
    n->host4 = n->net4 | (UINT32_C(0x0202) & ~n->mask4);
    n->dns4 = n->net4 | (UINT32_C(0x0203) & ~n->mask4);
    n->dhcp4 = n->net4 | (UINT32_C(0x020F) & ~n->mask4);
    if ((r = nat_option_v4(o, "host", &n->host4, err)) || (r = nat_option_v4(o, "dns", &n->dns4, err)) || (r = nat_option_v4(o, "dhcpstart", &n->dhcp4, err)))
        return r;
    if (!options_get(o, "dhcpstart") && bits >= 28) /* the usual place would be the net's broadcast address, or outside */
        n->dhcp4 = n->net4 + 4;
    if ((n->host4 & n->mask4) != n->net4 || n->host4 == n->net4 || n->host4 == (n->net4 | ~n->mask4))
        return err_set(err, EMU_EINVAL, "%s: host= must lie in net=", o->origin);
    if ((n->dhcp4 & n->mask4) != n->net4 || n->dhcp4 == n->net4 || n->dhcp4 == (n->net4 | ~n->mask4) || n->dhcp4 == n->host4 || n->dhcp4 == n->dns4)
        return err_set(err, EMU_EINVAL, "%s: dhcpstart= must lie in net= and differ from host= and dns=", o->origin);
    if (n->host4 == n->dns4)
        return err_set(err, EMU_EINVAL, "%s: host= and dns= must differ", o->origin);
    return 0;
}

static int nat_options_v6(struct nat *n, struct options *o, struct err *err)
{
    const char *net = options_get(o, "ipv6-net"), *slash;
    uint64_t bits = 64;
    char text[80];
    struct host_addr a;
    int r;
    memset(n->net6, 0, 16);
    n->net6[0] = 0xFE;
    n->net6[1] = 0xC0;
    if (net) {
        slash = strchr(net, '/');
        snprintf(text, sizeof text, "%.*s", (int)(slash ? EMU_MIN(slash - net, 79) : 79), net);
        if (!host_addr_parse(text, &a) || a.family != HOST_INET6 || (slash && parse_u64(slash + 1, 16, 126, &bits)))
            return err_set(err, EMU_EINVAL, "%s: ipv6-net=%s: wanted an IPv6 network, as fec0::/64", o->origin, net);
        memcpy(n->net6, a.ip, 16);
    }
    if (options_get(o, "ipv6-prefix")) { /* the two older spellings */
        if ((r = nat_option_v6(o, "ipv6-prefix", n->net6, err)))
            return r;
    }
    if ((r = options_u64(o, "ipv6-prefixlen", 16, 126, &bits, err)))
        return r;
    n->prefix6 = (unsigned)bits;
    {
        unsigned i;
        for (i = 0; i < 128; i++)
            if (i >= n->prefix6)
                n->net6[i / 8] &= (uint8_t)~(0x80 >> i % 8);
    }
    memcpy(n->host6, n->net6, 16);
    memcpy(n->dns6, n->net6, 16);
    n->host6[15] |= 2;
    n->dns6[15] |= 3;
    memset(n->link6, 0, 16);
    n->link6[0] = 0xFE;
    n->link6[1] = 0x80;
    n->link6[15] = 2;
    if ((r = nat_option_v6(o, "ipv6-host", n->host6, err)) || (r = nat_option_v6(o, "ipv6-dns", n->dns6, err)))
        return r;
    if (n->ip6) {
        struct nat_addr host = nat_v6(n->host6);
        if (!nat_in_net(n, &host) || !memcmp(n->host6, n->dns6, 16))
            return err_set(err, EMU_EINVAL, "%s: ipv6-host= must lie in ipv6-net= and differ from ipv6-dns=", o->origin);
    }
    return 0;
}

static int nat_option_string(struct nat *n, struct options *o, const char *key, char **out, size_t max, struct err *err)
{
    const char *text = options_get(o, key);
    if (!text)
        return 0;
    if (strlen(text) > max)
        return err_set(err, EMU_EINVAL, "%s: %s= has more than %u characters", o->origin, key, (unsigned)max);
    *out = emu_strdup(n->emu, text);
    return *out ? 0 : err_set(err, EMU_ENOMEM, "out of memory");
}

static int nat_options(struct nat *n, struct options *o, struct err *err)
{
    uint64_t mtu = 1500;
    const char *text;
    size_t i;
    int r;
    n->ip4 = n->ip6 = true;
    if ((text = options_get(o, "ipv4")) || options_get(o, "ipv6")) {
        bool want4 = !options_get(o, "ipv6"), want6 = !text;
        if ((r = options_bool(o, "ipv4", &want4, err)) || (r = options_bool(o, "ipv6", &want6, err)))
            return r;
        /* naming one family on means that one alone, as in QEMU; off leaves the other */
        if (text && !options_get(o, "ipv6"))
            want6 = !want4;
        if (!text)
            want4 = !want6;
        n->ip4 = want4;
        n->ip6 = want6;
        if (!want4 && !want6)
            return err_set(err, EMU_EINVAL, "%s: both ipv4 and ipv6 are off; one must be on", o->origin);
    }
    if ((r = nat_options_v4(n, o, err)) || (r = nat_options_v6(n, o, err)) || (r = options_bool(o, "restrict", &n->restricted, err)) ||
        (r = options_u64(o, "mtu", 576, 65521, &mtu, err)))
        return r;
    n->mtu = (unsigned)mtu;
    if (n->ip6 && n->mtu < 1280)
        n->ip6 = false; /* RFC 8200 §5 */
    if ((r = nat_option_string(n, o, "hostname", &n->hostname, 63, err)) || (r = nat_option_string(n, o, "domainname", &n->domainname, 253, err)) ||
        (r = nat_option_string(n, o, "tftp", &n->tftp, 1024, err)) || (r = nat_option_string(n, o, "tftp-server-name", &n->tftp_server_name, 63, err)) ||
        (r = nat_option_string(n, o, "bootfile", &n->bootfile, 127, err)))
        return r;
    if (n->tftp && host_path_kind(n->tftp) != HOST_KIND_DIR)
        return err_set(err, EMU_ENOENT, "%s: tftp=%s is not a folder", o->origin, n->tftp);
    for (i = 0; (text = options_get_nth(o, "dnssearch", i)); i++) {
        uint8_t name[256];
        size_t size = dns_encode_name(text, name, sizeof name);
        uint8_t *grown;
        if (!size || n->search_size + size > 255)
            return err_set(err, EMU_EINVAL, "%s: dnssearch=%s: not a domain name, or the list is longer than DHCP can carry", o->origin, text);
        grown = emu_realloc(n->emu, n->search, n->search_size + size);
        if (!grown)
            return err_set(err, EMU_ENOMEM, "out of memory");
        memcpy(grown + n->search_size, name, size);
        n->search = grown;
        n->search_size += size;
    }
    if (options_get(o, "smb") || options_get(o, "smbserver"))
        return err_set(err, EMU_ENOTSUP, "%s: smb= is not supported yet; use ssh, or a disk image", o->origin);
    return 0;
}

EMU_PRIV int netdev_user_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    struct nat *n = emu_alloc(e, sizeof *n), **end;
    const char *rule;
    size_t i;
    int r;
    if (!n)
        return err_set(err, EMU_ENOMEM, "out of memory");
    n->emu = e;
    timer_init(&n->work, e, nat_on_work, n);
    timer_init(&n->second, e, nat_on_second, n);
    n->hook.fn = nat_on_poll;
    n->hook.opaque = n;
    snprintf(n->port.name, sizeof n->port.name, "%s", id);
    snprintf(n->port.model, sizeof n->port.model, "user");
    n->port.opaque = n;
    n->port.takes_gso = n->port.takes_csum = true;
    n->port.max_frame = 65550;
    n->port.receive = nat_port_receive;
    n->port.kick = nat_port_kick;
    n->port.info = nat_port_info;
    n->port.destroy = nat_port_destroy;
    net_port_register(e, &n->port);
    for (end = &e->nats; *end; end = &(*end)->next) {
    }
    *end = n;
    poll_hook_add(e, &n->hook);
    n->flat = emu_realloc(e, NULL, NAT_L4_MAX + 128);
    n->scratch = emu_realloc(e, NULL, NAT_L4_MAX + 128);
    n->frame = emu_realloc(e, NULL, NAT_L4_MAX + 128);
    if (e->config.seed_set) {
        n->secret[0] = e->config.seed ^ UINT64_C(0x9E3779B97F4A7C15);
        n->secret[1] = e->config.seed * UINT64_C(0xD1342543DE82EF95) + 1;
    } else {
        host_random(n->secret, sizeof n->secret);
    }
    r = n->flat && n->scratch && n->frame ? nat_options(n, opts, err) : err_set(err, EMU_ENOMEM, "out of memory");
    if (!r) {
        n->mac[0] = 0x52;
        n->mac[1] = 0x55;
        st32be(n->mac + 2, n->host4);
        n->challenge_left = NAT_CHALLENGES;
        n->next_id = (uint16_t)nat_random(n);
    }
    for (i = 0; !r && (rule = options_get_nth(opts, "guestfwd", i)); i++)
        if ((r = nat_guestfwd_open(n, rule, err)))
            err_prefix(err, r, "-netdev user");
    for (i = 0; !r && (rule = options_get_nth(opts, "hostfwd", i)); i++)
        if ((r = nat_hostfwd_open(n, rule, err)))
            err_prefix(err, r, "-netdev user");
    if (r) {
        nat_destroy(n);
        return r;
    }
    if (n->ip6)
        ip6_start(n);
    timer_arm(&n->second, emu_now_ns(e) + NS_PER_SEC);
    *out = &n->port;
    return 0;
}
#undef NAT_TICK_NS
#undef NAT_RETRY_NS
#undef NAT_CHALLENGES
