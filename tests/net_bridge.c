/* net_bridge.c - a tap of the kernel's tied to our NAT: the kernel's own TCP is the guest.
 *
 * net_bridge [netns=FILE] tap=NAME [gso=on|off] [loss=PERCENT] [dup=PERCENT] [reorder=PERCENT] [seed=N] [dns=PORT] user,OPTIONS
 *
 * Used by tests/net_matrix.sh and net_soak.sh inside a network namespace; dns= is a resolver on the host's loopback. Impairment, both ways, holds back, drops or doubles frames by a seeded
 * generator. Every TCP segment is looked at as it crosses: "cable ok", or what was broken first. On SIGTERM it prints what it counted ("flows N
 * descriptors N ...") and ends.
 */
#include "machine.h"
#include "net/net.h"
#include "net/nat.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/if.h>
#include <linux/if_tun.h>

enum { VNET_HEADER = 12, HELD = 64, FRAME_MAX = 65536 + 64, BATCH = 64, SEEN = 1 << 14, SEEN_HEAD = 160 };
/* A connection as it crosses the cable, from what the NAT has got and sent. */
struct seen {
    uint32_t key; /* both ports */
    bool guest_scales, nat_scales, guest_edge_known, nat_edge_known, nat_ack_known, fin_known, syn_known;
    uint8_t guest_shift, nat_shift;
    uint32_t syn, guest_edge, nat_edge, nat_ack, fin; /* the opening SYN; right edges of the windows told; what we acknowledged; where our FIN is */
};
struct held {
    uint8_t *bytes;
    size_t size;
    bool to_guest;
    struct timer timer;
    struct bridge *bridge;
};
struct bridge {
    struct emu *e;
    struct net_port port, *nat;
    int tap;
    bool gso;
    unsigned loss, dup, reorder; /* per 10000 */
    uint64_t seed;
    uint8_t buffer[FRAME_MAX + VNET_HEADER];
    struct watch watch;
    uint64_t to_guest, from_guest, dropped, tap_full;
    bool waiting;
    struct seen *seen;
    uint64_t segments; /* looked at */
    char broken[200];
};

static volatile sig_atomic_t stop_now, report_now;
static void on_signal(int s)
{
    if (s == SIGUSR1)
        report_now = 1;
    else
        stop_now = 1;
}

static unsigned chance(struct bridge *b)
{
    b->seed = b->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(b->seed >> 33) % 10000;
}

/* ---- what must hold on the cable ---- */

/* Its place, which another connection takes over with its SYN; NULL: not watched from its start. */
static struct seen *seen_get(struct bridge *b, uint32_t key, bool starts)
{
    struct seen *s = &b->seen[(key * UINT32_C(2654435761) >> 16) % SEEN];
    if (s->key == key)
        return s;
    if (!starts)
        return NULL;
    memset(s, 0, sizeof *s);
    s->key = key;
    return s;
}

static void seen_scale(const uint8_t *t, size_t header, bool *scales, uint8_t *shift)
{
    size_t i = 20;
    *scales = false;
    while (i + 1 < header && t[i]) {
        if (t[i] == 3 && i + 2 < header) {
            *scales = true;
            *shift = t[i + 2];
        }
        i += t[i] == 1 ? 1 : t[i + 1] < 2 ? header : t[i + 1];
    }
}

static void seen_broken(struct bridge *b, const struct seen *s, const char *what, uint32_t seq, size_t size, uint32_t bound)
{
    if (!b->broken[0])
        snprintf(b->broken, sizeof b->broken, "%s (ports %u and %u, sequence number %" PRIu32 ", %u bytes, bound %" PRIu32 ")", what, s->key >> 16, s->key & 0xFFFF, seq,
                 (unsigned)size, bound);
}

/* RFC 9293 §3.4, §3.7, §3.8.6: we send nothing beyond the window that we were told (but one byte to probe it), our acknowledgements and the right edge of our
 * window never go back, and a FIN has one place, behind all data. */
static void look_at(struct bridge *b, const struct net_frame *f, bool to_guest)
{
    uint8_t head[SEEN_HEAD];
    const uint8_t *t;
    size_t got = net_frame_copy(f, 0, head, sizeof head), l4, header, size, end;
    uint32_t seq, ack, window, key, slack = 0;
    unsigned flags;
    struct seen *s;
    if (got >= 34 && ld16be(head + 12) == 0x0800 && head[23] == 6 && !(ld16be(head + 20) & 0x3FFF)) {
        l4 = 14 + (size_t)(head[14] & 15) * 4;
        end = 14 + (size_t)ld16be(head + 16);
    } else if (got >= 54 && ld16be(head + 12) == 0x86DD && head[20] == 6) {
        l4 = 54;
        end = 54 + (size_t)ld16be(head + 18);
    } else {
        return;
    }
    if (f->gso != NET_GSO_NONE)
        end = f->size;
    if (l4 + 20 > got)
        return;
    t = head + l4;
    header = (size_t)(t[12] >> 4) * 4;
    if (header < 20 || l4 + header > got || end < l4 + header)
        return;
    size = end - l4 - header;
    seq = ld32be(t + 4), ack = ld32be(t + 8), flags = t[13], window = ld16be(t + 14);
    key = to_guest ? (uint32_t)ld16be(t + 2) << 16 | ld16be(t) : (uint32_t)ld16be(t) << 16 | ld16be(t + 2);
    if (!(s = seen_get(b, key, (flags & 0x12) == 2)))
        return;
    b->segments++;
    if ((flags & 0x12) == 2) { /* SYN: from now on another connection, if it is not the same again */
        if (s->syn_known && s->syn == seq)
            return;
        memset(s, 0, sizeof *s);
        s->key = key;
        s->syn = seq;
        s->syn_known = true;
    }
    if (flags & 2) {
        seen_scale(t, header, to_guest ? &s->nat_scales : &s->guest_scales, to_guest ? &s->nat_shift : &s->guest_shift);
    } else if (s->guest_scales && s->nat_scales) {
        window <<= to_guest ? s->nat_shift : s->guest_shift;
        slack = (1u << s->nat_shift) - 1; /* what a scaled window can't say: RFC 7323 §2.4 */
    }
    if (!to_guest) {
        if ((flags & 0x10) && (!s->guest_edge_known || (int32_t)(ack + window - s->guest_edge) > 0)) {
            s->guest_edge = ack + window;
            s->guest_edge_known = true;
        }
        return;
    }
    if (flags & 4)
        return;
    if (flags & 0x10) {
        if (s->nat_ack_known && (int32_t)(ack - s->nat_ack) < 0)
            seen_broken(b, s, "an acknowledgement went back", ack, 0, s->nat_ack);
        if (s->nat_edge_known && (int32_t)(ack + window + slack - s->nat_edge) < 0)
            seen_broken(b, s, "a window's right edge went back", ack + window, 0, s->nat_edge);
        s->nat_edge = s->nat_edge_known && (int32_t)(ack + window - s->nat_edge) < 0 ? s->nat_edge : ack + window;
        s->nat_ack = ack;
        s->nat_ack_known = s->nat_edge_known = true;
    }
    if (flags & 2)
        return;
    if (size && s->guest_edge_known && (int32_t)(seq + (uint32_t)size - s->guest_edge) > 0 && !(size == 1 && seq == s->guest_edge))
        seen_broken(b, s, "data beyond the window", seq, size, s->guest_edge);
    if (s->fin_known && (int32_t)(seq + (uint32_t)size - s->fin) > 0 && size)
        seen_broken(b, s, "data behind the FIN", seq, size, s->fin);
    if (flags & 1) {
        if (s->fin_known && seq + (uint32_t)size != s->fin)
            seen_broken(b, s, "a FIN in another place", seq, size, s->fin);
        s->fin = seq + (uint32_t)size;
        s->fin_known = true;
    }
}

static int to_nat(struct bridge *b, const struct net_frame *f)
{
    look_at(b, f, false);
    return net_send(&b->port, f);
}

/* ---- what goes where ---- */

static int write_tap(struct bridge *b, const struct net_frame *f)
{
    uint8_t header[VNET_HEADER];
    struct iovec v[NET_FRAME_MAX_PIECES + 1];
    int i;
    memset(header, 0, sizeof header);
    if (f->needs_csum) {
        header[0] = 1;
        st16le(header + 6, f->csum_start);
        st16le(header + 8, f->csum_offset);
    } else {
        header[0] = 2; /* data valid */
    }
    if (f->gso != NET_GSO_NONE) {
        header[1] = f->gso == NET_GSO_TCP6 ? 4 : 1;
        st16le(header + 2, f->header_bytes);
        st16le(header + 4, f->gso_size);
    }
    v[0].iov_base = header;
    v[0].iov_len = VNET_HEADER;
    for (i = 0; i < f->count; i++) {
        v[i + 1].iov_base = f->pieces[i].base;
        v[i + 1].iov_len = f->pieces[i].size;
    }
    if (writev(b->tap, v, f->count + 1) < 0) {
        if (errno == EAGAIN || errno == ENOBUFS)
            return 0;
        b->dropped++;
    }
    b->to_guest++;
    return 1;
}

static void held_done(void *opaque)
{
    struct held *h = opaque;
    struct host_iov piece;
    struct net_frame f;
    memset(&f, 0, sizeof f);
    piece.base = h->bytes;
    piece.size = h->size;
    f.pieces = &piece;
    f.count = 1;
    f.size = h->size;
    f.csum_valid = true;
    if (h->to_guest)
        write_tap(h->bridge, &f);
    else
        to_nat(h->bridge, &f);
    free(h->bytes);
    free(h);
}

static void hold(struct bridge *b, const struct net_frame *f, bool to_guest)
{
    struct held *h = calloc(1, sizeof *h);
    h->bytes = malloc(f->size);
    h->size = net_frame_copy(f, 0, h->bytes, f->size);
    h->to_guest = to_guest;
    h->bridge = b;
    timer_init(&h->timer, b->e, held_done, h);
    timer_arm(&h->timer, emu_now_ns(b->e) + 300 * NS_PER_US + chance(b) * 100);
}

static bool impaired(const struct bridge *b) { return b->loss || b->dup || b->reorder; }

struct each {
    struct bridge *b;
    bool to_guest;
};

static int impair_each(void *opaque, const struct net_frame *f)
{
    struct each *x = opaque;
    struct bridge *b = x->b;
    if (chance(b) < b->loss) {
        b->dropped++;
        return 1;
    }
    if (chance(b) < b->dup)
        hold(b, f, x->to_guest);
    if (chance(b) < b->reorder)
        hold(b, f, x->to_guest);
    else if (x->to_guest)
        write_tap(b, f);
    else
        to_nat(b, f);
    return 1;
}

static int port_receive(struct net_port *p, const struct net_frame *f)
{
    struct bridge *b = p->opaque;
    struct each x;
    look_at(b, f, true);
    if (!impaired(b))
        return write_tap(b, f);
    x.b = b;
    x.to_guest = true;
    net_frame_cut(b->e, f, impair_each, &x); /* loss is of single segments */
    return 1;
}

static void tap_ready(void *opaque, unsigned events)
{
    struct bridge *b = opaque;
    int i;
    (void)events;
    for (i = 0; i < BATCH; i++) {
        ssize_t n = read(b->tap, b->buffer, sizeof b->buffer);
        struct host_iov piece;
        struct net_frame f;
        struct each x;
        if (n < VNET_HEADER + 14)
            break;
        memset(&f, 0, sizeof f);
        piece.base = b->buffer + VNET_HEADER;
        piece.size = (size_t)n - VNET_HEADER;
        f.pieces = &piece;
        f.count = 1;
        f.size = piece.size;
        f.needs_csum = b->buffer[0] & 1;
        f.csum_valid = (b->buffer[0] & 2) != 0;
        f.csum_start = ld16le(b->buffer + 6);
        f.csum_offset = ld16le(b->buffer + 8);
        if ((b->buffer[1] & 0x7F) == 1 || (b->buffer[1] & 0x7F) == 4) {
            f.gso = (b->buffer[1] & 0x7F) == 1 ? NET_GSO_TCP4 : NET_GSO_TCP6;
            f.gso_size = ld16le(b->buffer + 4);
            f.header_bytes = (uint16_t)(f.csum_start + (size_t)(((uint8_t *)piece.base)[f.csum_start + 12] >> 4) * 4);
        }
        b->from_guest++;
        if (impaired(b)) {
            x.b = b;
            x.to_guest = false;
            net_frame_cut(b->e, &f, impair_each, &x);
        } else {
            to_nat(b, &f);
        }
    }
}

static void report(struct bridge *b)
{
    struct nat *n = b->e->nats;
    unsigned i, descriptors = 0, watches = 0;
    struct watch *w;
    for (i = 0; i < 65536; i++)
        descriptors += fcntl((int)i, F_GETFD) != -1;
    for (w = b->e->watches; w; w = w->next)
        watches++;
    printf("flows %u udp %u descriptors %u watches %u to_guest %" PRIu64 " from_guest %" PRIu64 " dropped %" PRIu64 " bad %" PRIu64 " check %s cable %s segments %" PRIu64 "\n", n->tcp_count, n->udp_count,
           descriptors, watches, b->to_guest, b->from_guest, b->dropped, n->bad_packets, tcp_check(n) ? "ok" : "BROKEN", b->broken[0] ? b->broken : b->segments ? "ok" : "not seen", b->segments);
    fflush(stdout);
}

/* The part of machine/loop.c that matters here: timers, descriptors, hooks. */
static void round_once(struct emu *e, struct bridge *b)
{
    static struct pollfd items[8192];
    static struct watch *watches[8192];
    struct watch *w;
    struct poll_hook *h;
    int64_t wait;
    int n = 0, i;
    clock_run_timers(e);
    wait = clock_next_deadline(e);
    if (wait != INT64_MAX) {
        wait -= emu_now_ns(e);
        if (wait < 0)
            wait = 0;
    } else {
        wait = 100 * NS_PER_MS;
    }
    for (w = e->watches; w && n < 8192; w = w->next)
        if (w->want) {
            items[n].fd = (int)w->fd;
            items[n].events = (short)((w->want & HOST_READ ? POLLIN : 0) | (w->want & HOST_WRITE ? POLLOUT : 0));
            items[n].revents = 0;
            watches[n++] = w;
        }
    e->poll_watches = watches;
    e->poll_count = (size_t)n;
    {
        struct timespec t;
        t.tv_sec = (time_t)(wait / NS_PER_SEC);
        t.tv_nsec = (long)(wait % NS_PER_SEC);
        if (ppoll(items, (nfds_t)n, &t, NULL) > 0)
            for (i = 0; i < n; i++) {
                unsigned ev = (items[i].revents & (POLLIN | POLLHUP) ? HOST_READ : 0) | (items[i].revents & POLLOUT ? HOST_WRITE : 0) | (items[i].revents & (POLLERR | POLLNVAL) ? HOST_ERROR : 0);
                if (watches[i] && items[i].revents)
                    watches[i]->ready(watches[i]->opaque, ev);
            }
    }
    e->poll_count = 0;
    e->poll_watches = NULL;
    for (h = e->poll_hooks; h; h = h->next)
        h->fn(h->opaque);
    (void)b;
}

int main(int argc, char **argv)
{
    static struct bridge b;
    struct emu *e = emu_new(NULL);
    struct options o;
    struct err err;
    const char *user = "user,id=n0", *netns = NULL;
    uint16_t dns = 0;
    int i;
    if (!e || clock_create(e))
        return 1;
    b.e = e;
    b.seen = calloc(SEEN, sizeof *b.seen);
    if (!b.seen)
        return 1;
    for (i = 0; i < SEEN; i++)
        b.seen[i].key = 1; /* nobody's; and the memory is there from the start, so that it is no growth */
    b.tap = -1;
    b.gso = true;
    b.seed = 1;
    for (i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "tap=", 4)) {
            struct ifreq r;
            int here = open("/proc/self/ns/net", O_RDONLY), there = netns ? open(netns, O_RDONLY) : -1;
            memset(&r, 0, sizeof r);
            if (netns && (there < 0 || setns(there, CLONE_NEWNET))) {
                perror(netns);
                return 1;
            }
            b.tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
            r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
            snprintf(r.ifr_name, sizeof r.ifr_name, "%.15s", argv[i] + 4);
            if (b.tap < 0 || ioctl(b.tap, TUNSETIFF, &r)) {
                perror("tap");
                return 1;
            }
            if (netns && setns(here, CLONE_NEWNET))
                return 1;
            close(there);
            close(here);
        } else if (!strncmp(argv[i], "netns=", 6)) {
            netns = argv[i] + 6;
        } else if (!strcmp(argv[i], "gso=off")) {
            b.gso = false;
        } else if (!strncmp(argv[i], "loss=", 5)) {
            b.loss = (unsigned)(atof(argv[i] + 5) * 100);
        } else if (!strncmp(argv[i], "dup=", 4)) {
            b.dup = (unsigned)(atof(argv[i] + 4) * 100);
        } else if (!strncmp(argv[i], "reorder=", 8)) {
            b.reorder = (unsigned)(atof(argv[i] + 8) * 100);
        } else if (!strncmp(argv[i], "seed=", 5)) {
            b.seed = strtoull(argv[i] + 5, NULL, 0);
        } else if (!strncmp(argv[i], "dns=", 4)) {
            dns = (uint16_t)atoi(argv[i] + 4);
        } else if (!strncmp(argv[i], "user", 4)) {
            user = argv[i];
        }
    }
    if (b.tap < 0)
        return 1;
    {
        int size = VNET_HEADER;
        if (ioctl(b.tap, TUNSETVNETHDRSZ, &size) || ioctl(b.tap, TUNSETOFFLOAD, b.gso ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 : 0))
            perror("offload");
        size = 8 << 20;
        ioctl(b.tap, TUNSETSNDBUF, &size);
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGUSR1, on_signal);
    signal(SIGPIPE, SIG_IGN);
    snprintf(b.port.name, sizeof b.port.name, "tap");
    b.port.opaque = &b;
    b.port.receive = port_receive;
    b.port.takes_csum = b.port.takes_gso = b.gso || impaired(&b);
    b.port.max_frame = FRAME_MAX;
    net_port_register(e, &b.port);
    if (options_parse(&o, e, "-netdev", user, "type", &err) || netdev_user_create(e, "n0", &o, &b.nat, &err)) {
        printf("%s\n", err.text);
        return 1;
    }
    if (dns) {
        struct nat *n = b.nat->opaque;
        memset(&n->resolvers[0], 0, sizeof n->resolvers[0]);
        n->resolvers[0].family = HOST_INET;
        st32be(n->resolvers[0].ip, UINT32_C(0x7F000001));
        n->resolvers[0].port = dns;
        n->resolver_count = 1;
        n->resolvers_fixed = true;
    }
    net_port_connect(&b.port, b.nat, &err);
    watch_add(e, &b.watch, b.tap, HOST_READ, tap_ready, &b);
    printf("ready\n");
    fflush(stdout);
    while (!stop_now) {
        round_once(e, &b);
        if (report_now) {
            report_now = 0;
            report(&b);
        }
    }
    report(&b);
    b.nat->destroy(b.nat);
    options_free(&o);
    watch_remove(e, &b.watch);
    net_port_unregister(e, &b.port);
    i = (int)e->timer_count;
    printf("timers left %d watches left %u\n", impaired(&b) ? 0 : i, (unsigned)e->watch_count);
    return 0;
}
