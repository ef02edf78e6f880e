/* net_script.h - what the scripted network tests share: a user network on a manual clock whose guest is the test, packets built and read by hand. */
#ifndef NET_SCRIPT_H
#define NET_SCRIPT_H

#include "machine.h"
#include "net/net.h"
#include "net/nat.h"
#include "test.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FRAMES = 512, FRAME = 70000, MS = 1000000, FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };
#define SECOND (1000 * (int64_t)MS)
#define GUEST UINT32_C(0x0A00020F)
#define GATE UINT32_C(0x0A000202)
#define DNS UINT32_C(0x0A000203)

struct script {
    struct emu *e;
    struct net_port port, *nat;
    struct nat *n;
    uint8_t *frames[FRAMES];
    size_t sizes[FRAMES];
    unsigned first, count;
    bool full; /* the guest's NIC */
    unsigned room; /* frames until it is; 0: no limit */
    uint16_t gport, hport;
    uint32_t gseq, gack; /* next of ours (the guest's), expected of theirs */
    int listener, peer;
    struct err err;
};

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

EMU_UNUSED static int flat(void *opaque, const struct net_frame *f)
{
    struct script *s = opaque;
    unsigned i = (s->first + s->count) % FRAMES;
    if (s->count == FRAMES)
        return 1;
    s->frames[i] = malloc(f->size);
    s->sizes[i] = net_frame_copy(f, 0, s->frames[i], f->size);
    s->count++;
    return 1;
}

EMU_UNUSED static int script_receive(struct net_port *p, const struct net_frame *f)
{
    struct script *s = p->opaque;
    if (s->full)
        return 0;
    net_frame_cut(s->e, f, flat, s);
    s->full = s->room && !--s->room;
    return 1;
}

EMU_UNUSED static bool script_start(struct script *s, const char *options)
{
    struct options o;
    char text[512];
    int r;
    memset(s, 0, sizeof *s);
    s->listener = s->peer = -1;
    s->e = emu_new(NULL);
    if (!s->e || clock_create(s->e))
        return false;
    s->e->config.icount = true; /* manual: clock_warp_to() */
    clock_warp_to(s->e, SECOND);
    s->e->config.seed = 7;
    s->e->config.seed_set = true;
    snprintf(s->port.name, sizeof s->port.name, "guest");
    s->port.opaque = s;
    s->port.receive = script_receive;
    s->port.takes_gso = s->port.takes_csum = true;
    net_port_register(s->e, &s->port);
    snprintf(text, sizeof text, "user%s%s", *options ? "," : "", options);
    if (options_parse(&o, s->e, "-netdev", text, "type", &s->err))
        return false;
    r = netdev_user_create(s->e, "n0", &o, &s->nat, &s->err);
    if (!r) {
        options_get(&o, "type");
        r = options_check_used(&o, &s->err);
    }
    options_free(&o);
    if (r)
        return false;
    s->n = s->e->nats;
    net_port_connect(&s->port, s->nat, &s->err);
    return true;
}

EMU_UNUSED static void script_end(struct script *s)
{
    if (s->nat && s->e->nats)
        s->nat->destroy(s->nat);
    for (; s->count; s->count--, s->first = (s->first + 1) % FRAMES)
        free(s->frames[s->first]);
    if (s->listener >= 0)
        close(s->listener);
    if (s->peer >= 0)
        close(s->peer);
    net_port_unregister(s->e, &s->port);
    emu_destroy(s->e);
}

EMU_UNUSED static void script_work(struct script *s) { clock_run_timers(s->e); }

EMU_UNUSED static void script_advance(struct script *s, int64_t ns)
{
    int64_t end = emu_now_ns(s->e) + ns;
    while (clock_next_deadline(s->e) <= end) {
        clock_warp_to(s->e, clock_next_deadline(s->e));
        clock_run_timers(s->e);
    }
    clock_warp_to(s->e, end);
    clock_run_timers(s->e);
}

/* Host sockets get up to `ms` to become ready, and their callbacks run. */
EMU_UNUSED static void script_poll(struct script *s, int ms)
{
    struct watch *w, *list[256];
    struct pollfd items[256];
    struct poll_hook *h;
    int n = 0, i;
    script_work(s);
    for (w = s->e->watches; w && n < 256; w = w->next)
        if (w->want) {
            items[n].fd = (int)w->fd;
            items[n].events = (short)((w->want & HOST_READ ? POLLIN : 0) | (w->want & HOST_WRITE ? POLLOUT : 0));
            items[n].revents = 0;
            list[n++] = w;
        }
    s->e->poll_watches = list;
    s->e->poll_count = (size_t)n;
    if (poll(items, (nfds_t)n, ms) > 0)
        for (i = 0; i < n; i++)
            if (list[i] && items[i].revents)
                list[i]->ready(list[i]->opaque, (items[i].revents & (POLLIN | POLLHUP) ? HOST_READ : 0u) | (items[i].revents & POLLOUT ? HOST_WRITE : 0u) |
                                                    (items[i].revents & POLLERR ? HOST_ERROR : 0u));
    s->e->poll_count = 0;
    s->e->poll_watches = NULL;
    for (h = s->e->poll_hooks; h; h = h->next)
        h->fn(h->opaque);
    script_work(s);
}

EMU_UNUSED static void give(struct script *s, const void *bytes, size_t size)
{
    struct host_iov v;
    struct net_frame f;
    uint8_t *copy = malloc(size ? size : 1); /* exactly as large: ASan sees a read beyond */
    memcpy(copy, bytes, size);
    memset(&f, 0, sizeof f);
    v.base = copy;
    v.size = size;
    f.pieces = &v;
    f.count = 1;
    f.size = size;
    net_send(&s->port, &f);
    free(copy);
}

EMU_UNUSED static size_t ip_frame(uint8_t *f, uint8_t proto, uint32_t src, uint32_t dst, const void *l4, size_t size, uint16_t id, uint16_t fragment, uint8_t ttl)
{
    memset(f, 0, 34);
    f[0] = 0x52;
    f[1] = 0x55;
    st32be(f + 2, GATE);
    memcpy(f + 6, guest_mac, 6);
    st16be(f + 12, 0x0800);
    f[14] = 0x45;
    st16be(f + 16, (uint16_t)(20 + size));
    st16be(f + 18, id);
    st16be(f + 20, fragment);
    f[22] = ttl;
    f[23] = proto;
    st32be(f + 26, src);
    st32be(f + 30, dst);
    st16be(f + 24, net_checksum(f + 14, 20, 0));
    memcpy(f + 34, l4, size);
    return 34 + size;
}

EMU_UNUSED static void l4_sum(uint8_t *l4, size_t size, uint8_t proto, uint32_t src, uint32_t dst, size_t at)
{
    uint8_t pseudo[12];
    st32be(pseudo, src);
    st32be(pseudo + 4, dst);
    pseudo[8] = 0;
    pseudo[9] = proto;
    st16be(pseudo + 10, (uint16_t)size);
    st16be(l4 + at, 0);
    st16be(l4 + at, net_checksum(l4, size, net_checksum_add(pseudo, 12, 0)));
}

EMU_UNUSED static void send_udp(struct script *s, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, const void *data, size_t size)
{
    static uint8_t u[FRAME], f[FRAME];
    st16be(u, sport);
    st16be(u + 2, dport);
    st16be(u + 4, (uint16_t)(8 + size));
    memcpy(u + 8, data, size);
    l4_sum(u, 8 + size, 17, src, dst, 6);
    give(s, f, ip_frame(f, 17, src, dst, u, 8 + size, 1, 0, 64));
}

EMU_UNUSED static void send_tcp(struct script *s, uint32_t dst, uint16_t dport, uint32_t seq, uint32_t ack, unsigned flags, uint16_t window, const void *options, size_t osize,
                     const void *data, size_t size)
{
    static uint8_t t[FRAME], f[FRAME];
    memset(t, 0, 20);
    st16be(t, s->gport);
    st16be(t + 2, dport);
    st32be(t + 4, seq);
    st32be(t + 8, ack);
    t[12] = (uint8_t)((20 + osize) / 4 << 4);
    t[13] = (uint8_t)flags;
    st16be(t + 14, window);
    if (osize)
        memcpy(t + 20, options, osize);
    if (size)
        memcpy(t + 20 + osize, data, size);
    l4_sum(t, 20 + osize + size, 6, GUEST, dst, 16);
    give(s, f, ip_frame(f, 6, GUEST, dst, t, 20 + osize + size, 1, 0, 64));
}

/* The next frame toward the guest, or NULL. */
static uint8_t last_frame[FRAME];
static size_t last_size;
EMU_UNUSED static const uint8_t *take(struct script *s)
{
    if (!s->count)
        return NULL;
    last_size = s->sizes[s->first];
    memcpy(last_frame, s->frames[s->first], last_size);
    free(s->frames[s->first]);
    s->first = (s->first + 1) % FRAMES;
    s->count--;
    return last_frame;
}

struct seg {
    uint32_t seq, ack;
    unsigned id, flags, window, mss, shift, sacks; /* id: of the IP header */
    bool sack_ok;
    size_t len;
    const uint8_t *data;
    uint32_t from[4], to[4];
};

EMU_UNUSED static bool good_sums(const uint8_t *f, size_t size)
{
    size_t total = ld16be(f + 16), l4 = total - 20;
    uint8_t pseudo[12];
    if (14 + total > size || net_checksum(f + 14, 20, 0))
        return false;
    memcpy(pseudo, f + 26, 8);
    pseudo[8] = 0;
    pseudo[9] = f[23];
    st16be(pseudo + 10, (uint16_t)l4);
    if (f[23] == 1)
        return !net_checksum(f + 34, l4, 0);
    if (f[23] == 17 && !ld16be(f + 40))
        return true;
    return !net_checksum(f + 34, l4, net_checksum_add(pseudo, 12, 0));
}

/* Next TCP segment to the guest; ARP and others are passed over. false: none. */
EMU_UNUSED static bool take_tcp(struct script *s, struct seg *g)
{
    const uint8_t *f;
    memset(g, 0, sizeof *g);
    while ((f = take(s))) {
        size_t header, i;
        if (ld16be(f + 12) != 0x0800 || f[23] != 6)
            continue;
        if (!good_sums(f, last_size))
            return false;
        header = (size_t)(f[46] >> 4) * 4;
        g->id = ld16be(f + 18);
        g->seq = ld32be(f + 38);
        g->ack = ld32be(f + 42);
        g->flags = f[47];
        g->window = ld16be(f + 48);
        g->len = ld16be(f + 16) - 20u - header;
        g->data = f + 34 + header;
        for (i = 20; i < header && f[34 + i];) {
            const uint8_t *o = f + 34 + i;
            if (o[0] == 1) {
                i++;
                continue;
            }
            if (o[0] == 2)
                g->mss = ld16be(o + 2);
            if (o[0] == 3)
                g->shift = o[2];
            if (o[0] == 4)
                g->sack_ok = true;
            if (o[0] == 5)
                for (; g->sacks < 4 && 2 + 8 * g->sacks < o[1]; g->sacks++) {
                    g->from[g->sacks] = ld32be(o + 2 + 8 * g->sacks);
                    g->to[g->sacks] = ld32be(o + 6 + 8 * g->sacks);
                }
            i += o[1];
        }
        return true;
    }
    return false;
}

EMU_UNUSED static int listen_any(uint16_t *port)
{
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 128))
        return -1;
    getsockname(fd, (struct sockaddr *)&a, &n);
    *port = ntohs(a.sin_port);
    return fd;
}

static const uint8_t syn_options[12] = { 2, 4, 0x05, 0xB4, 4, 2, 1, 1, 3, 3, 7, 1 };

/* The guest opens a connection to a listener of ours; both ends are established after it. window is the guest's first, unscaled. */
EMU_UNUSED static bool connected_with(struct script *s, const char *options, uint16_t window, bool full_options)
{
    struct seg g;
    int i;
    if (!script_start(s, options))
        return false;
    s->listener = listen_any(&s->hport);
    s->gport = 40000;
    s->gseq = 1000;
    send_tcp(s, GATE, s->hport, s->gseq++, 0, SYN, window, syn_options, full_options ? 12 : 4, NULL, 0);
    for (i = 0; i < 20 && !s->count; i++)
        script_poll(s, 50);
    if (!take_tcp(s, &g) || g.flags != (SYN | ACK) || g.ack != s->gseq || g.mss != 1460)
        return false;
    if (full_options && (g.shift != 7 || !g.sack_ok))
        return false;
    s->gack = g.seq + 1;
    send_tcp(s, GATE, s->hport, s->gseq, s->gack, ACK, window, NULL, 0, NULL, 0);
    script_work(s);
    s->peer = accept(s->listener, NULL, NULL);
    return s->peer >= 0;
}
EMU_UNUSED static bool connected(struct script *s, uint16_t window) { return connected_with(s, "", window, true); }

EMU_UNUSED static void peer_says(struct script *s, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        ssize_t n = write(s->peer, p, size);
        if (n <= 0)
            return;
        p += n;
        size -= (size_t)n;
    }
    script_poll(s, 100);
}

EMU_UNUSED static int client(uint16_t port)
{
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    return connect(fd, (struct sockaddr *)&a, sizeof a) ? -1 : fd;
}

EMU_UNUSED static void arp_reply(struct script *s)
{
    uint8_t f[42];
    memset(f, 0, sizeof f);
    f[0] = 0x52;
    f[1] = 0x55;
    st32be(f + 2, GATE);
    memcpy(f + 6, guest_mac, 6);
    st16be(f + 12, 0x0806);
    st16be(f + 14, 1);
    st16be(f + 16, 0x0800);
    f[18] = 6;
    f[19] = 4;
    st16be(f + 20, 2);
    memcpy(f + 22, guest_mac, 6);
    st32be(f + 28, GUEST);
    st32be(f + 38, GATE);
    give(s, f, sizeof f);
}

EMU_UNUSED static int udp_any(uint16_t *port)
{
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&a, sizeof a))
        return -1;
    getsockname(fd, (struct sockaddr *)&a, &n);
    *port = ntohs(a.sin_port);
    return fd;
}

EMU_UNUSED static size_t dhcp_message(uint8_t *m, uint8_t type, uint32_t wanted, uint32_t ciaddr, const char *extra, size_t extra_size)
{
    size_t n = 240;
    memset(m, 0, 400);
    m[0] = 1;
    m[1] = 1;
    m[2] = 6;
    st32be(m + 4, 0xABCD1234);
    st32be(m + 12, ciaddr);
    memcpy(m + 28, guest_mac, 6);
    st32be(m + 236, 0x63825363);
    if (type) {
        m[n++] = 53;
        m[n++] = 1;
        m[n++] = type;
    }
    if (wanted) {
        m[n++] = 50;
        m[n++] = 4;
        st32be(m + n, wanted);
        n += 4;
    }
    memcpy(m + n, extra, extra_size);
    n += extra_size;
    m[n++] = 255;
    return n;
}

EMU_UNUSED static const uint8_t *dhcp_opt(const uint8_t *f, uint8_t tag)
{
    const uint8_t *o = f + 42 + 240, *end = f + last_size;
    while (o + 2 < end && *o != 255) {
        if (*o == tag)
            return o + 1;
        o += 2 + o[1];
    }
    return NULL;
}

EMU_UNUSED static const uint8_t *dhcp_ask(struct script *s, uint8_t type, uint32_t wanted, uint32_t ciaddr, const char *extra, size_t extra_size)
{
    uint8_t m[400];
    size_t n = dhcp_message(m, type, wanted, ciaddr, extra, extra_size);
    send_udp(s, ciaddr, 68, UINT32_MAX, 67, m, n);
    return take(s);
}

EMU_UNUSED static const uint8_t question[] = { 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1 };

#endif
