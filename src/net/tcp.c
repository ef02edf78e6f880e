/* net/tcp.c - TCP toward the guest, joined to the host's sockets.
 *
 * Models     RFC 9293 (TCP), 5681 and 6928 (congestion control, first window), 6298 (RTO), 6675/2018/2883 (SACK), 6582 (NewReno for guests without it),
 *            8985 (RACK and tail loss probe: losses found by the order of sending), 7323 (window scale; no timestamps), 6528 (first sequence
 *            number), 5961 (blind attacks), 6691 (MSS), 1122 §4.2.
 * Contract   ip.c gives segments to tcp_input(); hostfwd sockets give accepted connections to tcp_accept(); sockets report through watches, the
 *            guest's NIC through tcp_kick(). What goes to the guest is built here as super-frames straight from the ring.
 * Theory     A flow has two rings. tx: bytes read from the host socket, from snd_una on; rx: bytes of the guest from rx_head on, that the socket has not
 *            taken yet, and what came out of order behind them. Both are addressed by sequence number, so nothing moves when they wrap.
 *            A guest is acknowledged what its rx ring or the host's kernel holds. Work is put off to a timer at the same instant: frames that a NIC
 *            sends in one go are written with one call and acknowledged once, and of a bulk sender every second super-frame. Large payloads skip the rx
 *            ring when it is empty.
 *            What is in flight is a list of chunks (each one frame when it was sent), with the time of sending; SACK splits chunks, RACK marks
 *            them lost, pipe counts the bytes that should still arrive.
 *
 *            guest SYN -> CONNECTING -(host connected: tcp_ready)-> SYN_RCVD -(ACK)-> OPEN
 *            host accept -> SYN_SENT -(SYN-ACK)-> OPEN -(both FINs acknowledged, rx drained: tcp_settle)-> TIME_WAIT or DEAD
 *            any -(RST, host error, timeout)-> DEAD; DEAD flows are freed by the next work round only, so callers may go on using them.
 * Invariants 1. snd_una <= snd_nxt <= snd_max; tx_end - snd_una <= tx.capacity; chunks cover [snd_una, snd_nxt) without gap, in order.
 *            2. rx_head <= rcv_nxt; out-of-order ranges are sorted, apart from each other, above rcv_nxt and below rx_head + rx_capacity.
 *            3. pipe is the sum of the chunks that are neither sacked nor lost.
 *            4. The right edge of the advertised window (rcv_adv) never moves left.
 *            5. FIN is sent once everything of tx was sent, and tx_end does not move after it.
 *            6. nat's tcp_ring_bytes is the sum of what the rings of flows may hold: at most TCP_RINGS, and TCP_RING_SMALL twice for each flow beyond.
 * Missing    Timestamps and PAWS: the path is a cable, where no duplicate comes late, and round trips are measured from the chunks' own times, which RACK
 *            also takes for what was sent again; 12 bytes a segment would tell nothing new. ECN, urgent data as such (it stays in the stream), TCP Fast Open.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

#ifdef EMU_TORTURE
#define TCP_RING_FIRST 4096u
#define TCP_RING_SMALL 2048u
#define TCP_RINGS (256u * 1024)
#define TCP_RING_MAX 16384u
#define TCP_MAX_FLOWS 64u
#else
#define TCP_RING_FIRST (256u * 1024)
#define TCP_RING_SMALL (16u * 1024)           /* when the flows' rings are more than half of TCP_RINGS */
#define TCP_RINGS (512u * 1024 * 1024)        /* together, beyond which none grows */
#define TCP_RING_MAX (4u * 1024 * 1024)
#define TCP_MAX_FLOWS 8192u
#endif
#define TCP_SHIFT 7u                          /* our window scale: 65535 << 7 covers TCP_RING_MAX */
#define TCP_DIRECT 8192u                      /* payload that is worth a system call of its own */
#define TCP_ACK_FRAMES 2u                     /* a bulk sender's super-frames that one acknowledgement answers */
#define TCP_ACK_NS (500 * NS_PER_US)          /* which comes not later than this */
#define TCP_FLUSH 65536u                      /* bytes in rx that are written before the batch ends */
#define TCP_PULL (128u * 1024)                /* read at once: what is sent from the cache is cheaper */
#define TCP_LONG_RTT_NS (NS_PER_MS / 2)       /* below it the first ring is never what limits a flow */
#define TCP_RANGES 512u                       /* out-of-order ranges of a flow */
#define TCP_CHUNKS 16384u
#define TCP_FIRST_SEGMENTS 10u                /* RFC 6928 */
#define TCP_PROBES 4u
#define TCP_RTO_MIN (200 * NS_PER_MS)
#define TCP_RTO_FIRST NS_PER_SEC              /* RFC 6298 §2.1 */
#define TCP_RTO_MAX (60 * NS_PER_SEC)
#define TCP_RETRIES 12u                       /* then the guest is taken for dead */
#define TCP_SYN_TRIES 3u                      /* hostfwd: a guest that stays silent for 1+2+4 s is not there */
#define TCP_TIME_WAIT_NS (5 * NS_PER_SEC)     /* nothing can be delayed longer on this path */
#define TCP_LINE_QUIET_NS (2 * NS_PER_SEC)    /* guestfwd to a chardev: after the guest's FIN, the answer is over when nothing came for so long */
#define TCP_KEEPALIVE_NS (7200 * NS_PER_SEC)  /* RFC 9293 §3.8.4 */
#define TCP_KEEPALIVE_STEP_NS (75 * NS_PER_SEC)
#define TCP_KEEPALIVE_TRIES 9u
#define TCP_CONNECT_HOST_NS (150 * NS_PER_SEC) /* the host's kernel gives up before */

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };
enum tcp_state { TCP_CONNECTING, TCP_SYN_SENT, TCP_SYN_RCVD, TCP_OPEN, TCP_TIME_WAIT, TCP_DEAD };
enum tcp_chunk_flag { TCP_CHUNK_SACKED = 1, TCP_CHUNK_LOST = 2, TCP_CHUNK_AGAIN = 4 };

struct tcp_chunk {
    uint32_t seq, end; /* end counts a FIN */
    int64_t sent_ns;
    uint8_t flags;
};
struct tcp_ring {
    uint8_t *data; /* byte of sequence number s stands at s & (capacity - 1); NULL until first used */
    uint32_t capacity;
};
struct tcp_range {
    uint32_t from, to;
};
struct tcp_segment { /* a segment of the guest's, taken apart */
    uint32_t seq, ack, window;
    uint8_t flags;
    size_t data, size; /* payload: offset in the frame, bytes */
    uint16_t mss;
    bool has_scale, sack_ok;
    uint8_t scale;
    unsigned sacks;
    struct tcp_range sack[4];
};
struct tcp_flow {
    struct nat *nat;
    struct tcp_flow *hash_next, *next, **link, *work_next;
    bool in_work, from_host, watching;
    uint8_t state;
    struct nat_addr guest, remote; /* remote: as the guest sees it */
    uint16_t guest_port, remote_port;
    unsigned bucket;
    /* host side */
    host_fd fd;
    struct watch watch;
    struct host_addr peer;
    struct nat_guestfwd *guestfwd;
    struct chr *chr;
    long pid;
    size_t resolver; /* DNS: which one is being tried */
    bool is_dns, host_blocked, host_eof, host_reset, shut_down;
    bool host_deaf; /* the socket takes nothing more, but what it said before may still be unread */
    int64_t connect_until_host_ns;
    /* sender */
    struct tcp_ring tx;
    bool counted; /* its rings are part of nat's tcp_ring_bytes */
    uint32_t iss, snd_una, snd_nxt, snd_max, tx_end, snd_wnd, max_wnd, snd_wl1, snd_wl2;
    unsigned snd_shift, mss;
    bool sack_ok, scale_ok, fin_sent, fin_acked;
    struct tcp_chunk *chunks;
    unsigned chunk_first, chunk_count, chunk_capacity;
    uint32_t pipe, sacked_bytes, cwnd, ssthresh, recover;
    bool in_recovery, in_loss, reordered, any_again; /* in_loss: after a timeout, until recover is acknowledged */
    bool again_now; /* a lost segment goes whatever cwnd says */
    unsigned dupacks, retries, backoff;
    int64_t srtt_ns, rttvar_ns, rto_ns, min_rtt_ns, rack_sent_ns, rack_rtt_ns;
    uint32_t rack_end;
    bool rtt_known, rack_known;
    unsigned probes; /* tail loss probes since the guest last acknowledged something */
    /* receiver */
    struct tcp_ring rx;
    uint32_t irs, rcv_nxt, rcv_adv, rx_head, rx_since_grow, fin_seq;
    bool fin_known, guest_fin, fin_first; /* fin_known: seen, maybe out of order; fin_first: we sent ours before the guest's came */
    bool need_ack, closed_window;
    unsigned lazy_frames; /* super-frames since the last acknowledgement, if need_ack may wait for more of them (until ack_at); else 0 */
    struct tcp_range *ranges;
    unsigned range_count, range_capacity;
    uint32_t newest_range;
    bool has_newest;
    struct tcp_range duplicate; /* RFC 2883: to be reported once; from == to: none */
    /* time, virtual: 0 = off */
    struct timer timer;
    int64_t rto_at, rack_at, life_at, ack_at, quiet_at, heard_ns; /* quiet_at: the chardev's answer is taken for ended */
    bool rto_is_probe; /* rto_at is a tail loss probe's time */
    unsigned keepalives;
    uint64_t bytes_out, bytes_in;
};

static bool tcp_lt(uint32_t a, uint32_t b) { return (a - b) >> 31; }
static bool tcp_le(uint32_t a, uint32_t b) { return !((b - a) >> 31); }

static void tcp_settle(struct tcp_flow *f);
static void tcp_output(struct tcp_flow *f);
static void tcp_ready(void *opaque, unsigned events);
static void tcp_on_timer(void *opaque);
static bool tcp_connect_host(struct tcp_flow *f);

/* ---- rings ---- */

static int tcp_ring_pieces(const struct tcp_ring *r, uint32_t seq, uint32_t size, struct host_iov v[2])
{
    uint32_t at = seq & (r->capacity - 1), first = EMU_MIN(size, r->capacity - at);
    v[0].base = r->data + at;
    v[0].size = first;
    v[1].base = r->data;
    v[1].size = size - first;
    return size > first ? 2 : 1;
}

/* Doubles it, if the flows together may have that much; [seq, seq + size) keeps its contents. */
static void tcp_ring_grow(struct nat *n, struct tcp_ring *r, uint32_t seq, uint32_t size)
{
    struct tcp_ring bigger;
    struct host_iov v[2];
    uint32_t done = 0;
    int i, count;
    if (n->tcp_ring_bytes + r->capacity > TCP_RINGS)
        return;
    bigger.capacity = r->capacity * 2;
    if (!r->data) {
        n->tcp_ring_bytes += r->capacity;
        r->capacity = bigger.capacity;
        return;
    }
    bigger.data = emu_realloc(n->emu, NULL, bigger.capacity);
    if (!bigger.data)
        return;
    n->tcp_ring_bytes += r->capacity;
    while (done < size) {
        uint32_t left = size - done;
        tcp_ring_pieces(r, seq + done, left, v);
        left = (uint32_t)v[0].size;
        count = tcp_ring_pieces(&bigger, seq + done, left, v);
        for (i = 0; i < count; i++) {
            memcpy(v[i].base, r->data + ((seq + done) & (r->capacity - 1)), v[i].size);
            done += (uint32_t)v[i].size;
        }
    }
    emu_free(n->emu, r->data);
    *r = bigger;
}

static bool tcp_ring_use(struct nat *n, struct tcp_ring *r)
{
    if (!r->data)
        r->data = emu_realloc(n->emu, NULL, r->capacity);
    return r->data != NULL;
}

static uint32_t tcp_rx_end(const struct tcp_flow *f) { return f->range_count ? f->ranges[f->range_count - 1].to : f->rcv_nxt; }
/* In-order bytes that the host has not taken; the guest's FIN is none. */
static uint32_t tcp_rx_size(const struct tcp_flow *f) { return f->rcv_nxt - (f->guest_fin ? 1 : 0) - f->rx_head; }

/* ---- flows ---- */

static unsigned tcp_bucket(struct nat *n, const struct nat_addr *guest, uint16_t guest_port, const struct nat_addr *remote, uint16_t remote_port)
{
    uint8_t key[36];
    memcpy(key, guest->b, 16);
    memcpy(key + 16, remote->b, 16);
    st16be(key + 32, guest_port);
    st16be(key + 34, remote_port);
    return (unsigned)(nat_siphash(n->secret, key, sizeof key) % NAT_HASH);
}

static struct tcp_flow *tcp_find(struct nat *n, const struct nat_addr *guest, uint16_t guest_port, const struct nat_addr *remote, uint16_t remote_port)
{
    struct tcp_flow *f;
    for (f = n->tcp_hash[tcp_bucket(n, guest, guest_port, remote, remote_port)]; f; f = f->hash_next)
        if (f->state != TCP_DEAD && f->guest_port == guest_port && f->remote_port == remote_port && nat_addr_eq(&f->guest, guest) && nat_addr_eq(&f->remote, remote))
            return f;
    return NULL;
}

/* RFC 6528 §3: a clock of 4 us plus a secret function of the connection. */
static uint32_t tcp_first_seq(struct tcp_flow *f)
{
    uint8_t key[37];
    memcpy(key, f->guest.b, 16);
    memcpy(key + 16, f->remote.b, 16);
    st16be(key + 32, f->guest_port);
    st16be(key + 34, f->remote_port);
    key[36] = 1;
    return (uint32_t)nat_siphash(f->nat->secret, key, sizeof key) + (uint32_t)(emu_now_ns(f->nat->emu) / 4000);
}

static void tcp_close_host(struct tcp_flow *f)
{
    if (f->watching)
        watch_remove(f->nat->emu, &f->watch);
    f->watching = false;
    if (f->fd != HOST_FD_NONE) {
        host_fd_close(f->fd);
        if (f->pid > 0)
            host_reap(f->pid);
    }
    f->fd = HOST_FD_NONE;
    f->pid = 0;
    if (f->chr && f->guestfwd && f->guestfwd->flow == f)
        f->guestfwd->flow = NULL;
    f->chr = NULL;
}

static void tcp_want_work(struct tcp_flow *f)
{
    struct nat *n = f->nat;
    if (f->in_work)
        return;
    f->in_work = true;
    f->work_next = NULL;
    if (n->tcp_work)
        n->tcp_work_last->work_next = f;
    else
        n->tcp_work = f;
    n->tcp_work_last = f;
    nat_work_soon(n);
}

static void tcp_free_rings(struct tcp_flow *f)
{
    struct emu *e = f->nat->emu;
    emu_free(e, f->tx.data);
    emu_free(e, f->rx.data);
    emu_free(e, f->chunks);
    emu_free(e, f->ranges);
    f->tx.data = f->rx.data = NULL;
    f->chunks = NULL;
    f->ranges = NULL;
    f->chunk_count = f->chunk_first = f->chunk_capacity = f->range_count = f->range_capacity = 0;
    f->nat->tcp_ring_bytes -= f->counted ? (size_t)f->tx.capacity + f->rx.capacity : 0;
    f->counted = false;
}

/* The flow ends here; its memory goes with the next work round. */
static void tcp_kill(struct tcp_flow *f)
{
    if (f->state == TCP_DEAD)
        return;
    f->state = TCP_DEAD;
    tcp_close_host(f);
    timer_cancel(&f->timer);
    tcp_want_work(f);
}

static void tcp_free(struct tcp_flow *f)
{
    struct nat *n = f->nat;
    struct tcp_flow **at = &n->tcp_hash[f->bucket];
    while (*at && *at != f)
        at = &(*at)->hash_next;
    if (*at)
        *at = f->hash_next;
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    n->tcp_count--;
    tcp_close_host(f);
    timer_cancel(&f->timer);
    tcp_free_rings(f);
    emu_free(n->emu, f);
}

static struct tcp_flow *tcp_new(struct nat *n, const struct nat_addr *guest, uint16_t guest_port, const struct nat_addr *remote, uint16_t remote_port)
{
    struct tcp_flow *f, *old;
    if (n->tcp_count >= TCP_MAX_FLOWS) { /* the oldest that only waits for stragglers goes */
        struct tcp_flow *victim = NULL;
        for (old = n->tcp_list; old; old = old->next)
            if (old->state == TCP_TIME_WAIT)
                victim = old;
        if (!victim) {
            emu_log_once(n->emu, &n->said_flows, LOG_NOTICE, "%s: the guest has %u TCP connections open; more are refused", n->port.name, n->tcp_count);
            return NULL;
        }
        tcp_kill(victim);
        if (n->tcp_count >= TCP_MAX_FLOWS * 2)
            return NULL;
    }
    f = emu_alloc(n->emu, sizeof *f);
    if (!f)
        return NULL;
    f->nat = n;
    f->guest = *guest;
    f->guest_port = guest_port;
    f->remote = *remote;
    f->remote_port = remote_port;
    f->fd = HOST_FD_NONE;
    f->tx.capacity = f->rx.capacity = n->tcp_ring_bytes + 2 * TCP_RING_FIRST > TCP_RINGS / 2 ? TCP_RING_SMALL : TCP_RING_FIRST;
    n->tcp_ring_bytes += 2 * (size_t)f->tx.capacity;
    f->counted = true;
    timer_init(&f->timer, n->emu, tcp_on_timer, f);
    f->iss = tcp_first_seq(f);
    f->snd_una = f->snd_nxt = f->snd_max = f->iss;
    f->tx_end = f->iss + 1;
    f->rto_ns = TCP_RTO_FIRST;
    f->mss = 536;
    f->ssthresh = UINT32_MAX / 2;
    f->heard_ns = emu_now_ns(n->emu);
    f->bucket = tcp_bucket(n, guest, guest_port, remote, remote_port);
    f->hash_next = n->tcp_hash[f->bucket];
    n->tcp_hash[f->bucket] = f;
    f->next = n->tcp_list;
    f->link = &n->tcp_list;
    if (f->next)
        f->next->link = &f->next;
    n->tcp_list = f;
    n->tcp_count++;
    return f;
}

/* ---- timers ---- */

static void tcp_arm(struct tcp_flow *f)
{
    int64_t at = 0;
    if (f->rto_at)
        at = f->rto_at;
    if (f->rack_at && (!at || f->rack_at < at))
        at = f->rack_at;
    if (f->life_at && (!at || f->life_at < at))
        at = f->life_at;
    if (f->ack_at && (!at || f->ack_at < at))
        at = f->ack_at;
    if (f->quiet_at && (!at || f->quiet_at < at))
        at = f->quiet_at;
    if (!at || f->state == TCP_DEAD)
        return; /* an armed timer finds nothing to do */
    if (!timer_armed(&f->timer) || f->timer.deadline_ns > at)
        timer_arm(&f->timer, at);
}

/* ---- building segments ---- */

static unsigned tcp_header_bytes(const struct tcp_flow *f) { return NAT_ETHER_BYTES + (nat_is_v4(&f->guest) ? NAT_IP4_BYTES : NAT_IP6_BYTES); }

static unsigned tcp_our_mss(const struct tcp_flow *f) { return f->nat->mtu - tcp_header_bytes(f) + NAT_ETHER_BYTES - 20; }

/* Ethernet, IP and TCP header for l4_bytes (header and payload); checksum left as the pseudo header's sum. */
static void tcp_build(struct nat *n, uint8_t *frame, const uint8_t mac[6], const struct nat_addr *src, uint16_t src_port, const struct nat_addr *dst, uint16_t dst_port,
                      uint32_t seq, uint32_t ack, uint8_t flags, uint16_t window, unsigned option_bytes, size_t l4_bytes)
{
    uint8_t *ip = frame + NAT_ETHER_BYTES, *t;
    if (nat_is_v4(dst)) {
        nat_frame_start(n, frame, mac, NAT_ETHERTYPE_IP4);
        memset(ip, 0, NAT_IP4_BYTES);
        ip[0] = 0x45;
        st16be(ip + 2, (uint16_t)(NAT_IP4_BYTES + l4_bytes));
        st16be(ip + 4, n->next_id);
        st16be(ip + 6, 0x4000); /* don't fragment */
        ip[8] = NAT_TTL;
        ip[9] = NAT_PROTO_TCP;
        memcpy(ip + 12, src->b + 12, 4);
        memcpy(ip + 16, dst->b + 12, 4);
        st16be(ip + 10, net_checksum(ip, NAT_IP4_BYTES, 0));
        t = ip + NAT_IP4_BYTES;
    } else {
        nat_frame_start(n, frame, mac, NAT_ETHERTYPE_IP6);
        memset(ip, 0, NAT_IP6_BYTES);
        ip[0] = 0x60;
        st16be(ip + 4, (uint16_t)l4_bytes);
        ip[6] = NAT_PROTO_TCP;
        ip[7] = NAT_TTL;
        memcpy(ip + 8, src->b, 16);
        memcpy(ip + 24, dst->b, 16);
        t = ip + NAT_IP6_BYTES;
    }
    st16be(t, src_port);
    st16be(t + 2, dst_port);
    st32be(t + 4, seq);
    st32be(t + 8, ack);
    t[12] = (uint8_t)((20 + option_bytes) / 4 << 4);
    t[13] = flags;
    st16be(t + 14, window);
    st16be(t + 16, net_checksum_fold(pkt_pseudo_sum(src, dst, NAT_PROTO_TCP, l4_bytes)));
    st16be(t + 18, 0);
}

/* The window to advertise now; moves rcv_adv (invariant 4). RFC 9293 §3.8.6.2.2: the edge moves by a segment or half the ring at least. */
static uint16_t tcp_window(struct tcp_flow *f, bool syn)
{
    uint32_t edge = f->rx_head + f->rx.capacity, step = EMU_MIN(f->rx.capacity / 2, tcp_our_mss(f)), w;
    unsigned shift = f->scale_ok && !syn ? TCP_SHIFT : 0;
    if (edge - f->rcv_adv < step || tcp_lt(edge, f->rcv_adv))
        edge = f->rcv_adv;
    w = tcp_lt(edge, f->rcv_nxt) ? 0 : edge - f->rcv_nxt;
    w = EMU_MIN(w >> shift, 0xFFFFu);
    if (tcp_lt(f->rcv_adv, f->rcv_nxt + (w << shift)))
        f->rcv_adv = f->rcv_nxt + (w << shift);
    f->closed_window = (w << shift) < step;
    return (uint16_t)w;
}

static bool tcp_send_pieces(struct tcp_flow *f, struct host_iov *v, int count, size_t size, unsigned headers, size_t payload)
{
    struct net_frame out;
    bool v4 = nat_is_v4(&f->guest);
    memset(&out, 0, sizeof out);
    out.pieces = v;
    out.count = count;
    out.size = size;
    out.needs_csum = true;
    out.csum_start = (uint16_t)tcp_header_bytes(f);
    out.csum_offset = 16;
    if (payload > f->mss) {
        out.gso = v4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
        out.gso_size = (uint16_t)f->mss;
        out.header_bytes = (uint16_t)headers;
    }
    if (!net_send(&f->nat->port, &out)) {
        f->nat->blocked = true;
        return false;
    }
    if (v4)
        f->nat->next_id = (uint16_t)(f->nat->next_id + (payload > f->mss ? (payload + f->mss - 1) / f->mss : 1)); /* no gap: receivers join what follows on */
    return true;
}

/* SACK option, most recent range first (RFC 2018 §4), a duplicate before it (RFC 2883). */
static unsigned tcp_sack_option(struct tcp_flow *f, uint8_t *o)
{
    unsigned blocks = 0, i;
    struct tcp_range b[4];
    if (!f->sack_ok || (!f->range_count && f->duplicate.from == f->duplicate.to))
        return 0;
    if (f->duplicate.from != f->duplicate.to)
        b[blocks++] = f->duplicate;
    f->duplicate.from = f->duplicate.to = 0;
    if (f->has_newest)
        for (i = 0; i < f->range_count; i++)
            if (tcp_le(f->ranges[i].from, f->newest_range) && tcp_lt(f->newest_range, f->ranges[i].to)) {
                b[blocks++] = f->ranges[i];
                break;
            }
    for (i = 0; i < f->range_count && blocks < 4; i++)
        if (!f->has_newest || !(tcp_le(f->ranges[i].from, f->newest_range) && tcp_lt(f->newest_range, f->ranges[i].to)))
            b[blocks++] = f->ranges[i];
    if (!blocks)
        return 0;
    o[0] = o[1] = 1;
    o[2] = 5;
    o[3] = (uint8_t)(2 + 8 * blocks);
    for (i = 0; i < blocks; i++) {
        st32be(o + 4 + 8 * i, b[i].from);
        st32be(o + 8 + 8 * i, b[i].to);
    }
    return 4 + 8 * blocks;
}

/* A segment of [seq, seq + size) of tx, with flags. false: the guest's NIC is full. */
static bool tcp_send_segment(struct tcp_flow *f, uint32_t seq, uint32_t size, uint8_t flags)
{
    struct nat *n = f->nat;
    uint8_t frame[NAT_ETHER_BYTES + NAT_IP6_BYTES + 60 + NAT_FRAME_MIN];
    static const uint8_t zeros[NAT_FRAME_MIN];
    const uint8_t *mac;
    unsigned base = tcp_header_bytes(f), options = 0;
    struct host_iov v[4];
    size_t total;
    int count = 1;
    if (n->blocked)
        return false;
    mac = arp_lookup(n, &f->guest);
    if (!mac)
        return true; /* as good as lost: it is sent again */
    if (flags & TCP_SYN) {
        uint8_t *o = frame + base + 20;
        o[0] = 2;
        o[1] = 4;
        st16be(o + 2, (uint16_t)tcp_our_mss(f));
        options = 4;
        if (f->state == TCP_SYN_SENT || f->sack_ok) {
            o[options] = 4;
            o[options + 1] = 2;
            o[options + 2] = o[options + 3] = 1;
            options += 4;
        }
        if (f->state == TCP_SYN_SENT || f->scale_ok) {
            o[options] = 3;
            o[options + 1] = 3;
            o[options + 2] = TCP_SHIFT;
            o[options + 3] = 1;
            options += 4;
        }
    } else if (!size && (flags & TCP_ACK)) {
        options = tcp_sack_option(f, frame + base + 20);
    }
    tcp_build(n, frame, mac, &f->remote, f->remote_port, &f->guest, f->guest_port, seq, flags & TCP_ACK ? f->rcv_nxt : 0, flags,
              tcp_window(f, (flags & TCP_SYN) != 0), options, 20 + options + size);
    v[0].base = frame;
    v[0].size = base + 20 + options;
    total = v[0].size + size;
    if (size)
        count += tcp_ring_pieces(&f->tx, seq, size, v + 1);
    if (total < NAT_FRAME_MIN) {
        v[count].base = (void *)(uintptr_t)zeros;
        v[count++].size = NAT_FRAME_MIN - total;
        total = NAT_FRAME_MIN;
    }
    if (!tcp_send_pieces(f, v, count, total, base + 20 + options, size))
        return false;
    if (flags & TCP_ACK) {
        f->need_ack = false;
        f->lazy_frames = 0;
        f->ack_at = 0;
    }
    f->bytes_in += size;
    return true;
}

static void tcp_send_ack(struct tcp_flow *f)
{
    if (!tcp_send_segment(f, f->snd_nxt, 0, TCP_ACK)) {
        f->need_ack = true;
        tcp_want_work(f);
    }
}

/* RST without a flow's help, in answer to a segment (RFC 9293 §3.10.7.1). */
static void tcp_refuse(struct nat *n, struct pkt *p, const struct tcp_segment *s)
{
    uint8_t frame[NAT_ETHER_BYTES + NAT_IP6_BYTES + 20];
    size_t base = NAT_ETHER_BYTES + (nat_is_v4(&p->src) ? NAT_IP4_BYTES : NAT_IP6_BYTES), sum;
    const uint8_t *t = pkt_bytes(p, p->l4, 20);
    if (!t || (s->flags & TCP_RST))
        return;
    if (s->flags & TCP_ACK)
        tcp_build(n, frame, p->src_mac, &p->dst, ld16be(t + 2), &p->src, ld16be(t), s->ack, 0, TCP_RST, 0, 0, 20);
    else
        tcp_build(n, frame, p->src_mac, &p->dst, ld16be(t + 2), &p->src, ld16be(t), 0,
                  s->seq + (uint32_t)s->size + ((s->flags & TCP_SYN) ? 1 : 0) + ((s->flags & TCP_FIN) ? 1 : 0), TCP_RST | TCP_ACK, 0, 0, 20);
    n->next_id++;
    sum = net_checksum(frame + base, 20, 0); /* the field holds the pseudo header's sum */
    st16be(frame + base + 16, (uint16_t)sum);
    nat_send_flat(n, frame, base + 20);
}

/* RST of a flow that ends. It waits for room in the guest's NIC as every flat frame does: nobody would send it again. */
static void tcp_send_reset(struct tcp_flow *f)
{
    uint8_t frame[NAT_ETHER_BYTES + NAT_IP6_BYTES + 20];
    size_t base = tcp_header_bytes(f);
    const uint8_t *mac = arp_lookup(f->nat, &f->guest);
    if (!mac)
        return;
    tcp_build(f->nat, frame, mac, &f->remote, f->remote_port, &f->guest, f->guest_port, f->state == TCP_CONNECTING ? 0 : f->snd_nxt, f->rcv_nxt, TCP_RST | TCP_ACK, 0, 0,
              20); /* CONNECTING: nothing of ours was sent yet, it answers the SYN */
    f->nat->next_id++;
    st16be(frame + base + 16, net_checksum(frame + base, 20, 0)); /* the field held the pseudo header's sum */
    nat_send_flat(f->nat, frame, base + 20);
}

/* RST to the guest, and the end. */
static void tcp_reset_guest(struct tcp_flow *f)
{
    if (f->state == TCP_DEAD)
        return;
    tcp_send_reset(f);
    tcp_kill(f);
}

/* The guest is gone or refuses: the host's peer sees a reset too. */
static void tcp_reset_host(struct tcp_flow *f)
{
    if (f->fd != HOST_FD_NONE && !f->pid)
        host_set_option(f->fd, HOST_OPT_LINGER0, 1);
    tcp_kill(f);
}

/* ---- chunks: what is in flight ---- */

static struct tcp_chunk *tcp_chunk(struct tcp_flow *f, unsigned i) { return &f->chunks[f->chunk_first + i]; }

static bool tcp_chunk_room(struct tcp_flow *f)
{
    if (f->chunk_first + f->chunk_count < f->chunk_capacity)
        return true;
    if (f->chunk_first > f->chunk_capacity / 2) {
        memmove(f->chunks, f->chunks + f->chunk_first, f->chunk_count * sizeof *f->chunks);
        f->chunk_first = 0;
        return true;
    }
    if (f->chunk_capacity < TCP_CHUNKS) {
        unsigned capacity = f->chunk_capacity ? f->chunk_capacity * 2 : 32;
        struct tcp_chunk *chunks = emu_realloc(f->nat->emu, f->chunks, capacity * sizeof *chunks);
        if (!chunks)
            return false;
        f->chunks = chunks;
        f->chunk_capacity = capacity;
        return true;
    }
    if (!f->chunk_first)
        return false;
    memmove(f->chunks, f->chunks + f->chunk_first, f->chunk_count * sizeof *f->chunks);
    f->chunk_first = 0;
    return true;
}

/* Cuts chunk i at seq, which lies inside; false: no room. */
static bool tcp_chunk_split(struct tcp_flow *f, unsigned i, uint32_t seq)
{
    struct tcp_chunk *c;
    if (!tcp_chunk_room(f))
        return false;
    c = tcp_chunk(f, i);
    memmove(c + 1, c, (f->chunk_count - i) * sizeof *c);
    f->chunk_count++;
    c[0].end = seq;
    c[1].seq = seq;
    return true;
}

static void tcp_chunk_lost(struct tcp_flow *f, struct tcp_chunk *c)
{
    if (c->flags & (TCP_CHUNK_LOST | TCP_CHUNK_SACKED))
        return;
    c->flags |= TCP_CHUNK_LOST;
    f->pipe -= c->end - c->seq;
}

/* A chunk reached the guest: time measurement and RACK (RFC 8985 §6.2). */
static void tcp_chunk_delivered(struct tcp_flow *f, const struct tcp_chunk *c, int64_t now, int64_t *sample)
{
    int64_t rtt = now - c->sent_ns;
    if (c->flags & TCP_CHUNK_AGAIN) {
        if (rtt < f->min_rtt_ns) /* an answer to the first sending */
            return;
    } else {
        *sample = rtt;
        if (!f->min_rtt_ns || rtt < f->min_rtt_ns)
            f->min_rtt_ns = rtt;
    }
    if (!f->rack_known || c->sent_ns > f->rack_sent_ns || (c->sent_ns == f->rack_sent_ns && tcp_lt(f->rack_end, c->end))) {
        f->rack_known = true;
        f->rack_sent_ns = c->sent_ns;
        f->rack_end = c->end;
        f->rack_rtt_ns = rtt;
    }
}

static void tcp_measured(struct tcp_flow *f, int64_t rtt)
{
    if (!f->rtt_known) {
        f->srtt_ns = rtt;
        f->rttvar_ns = rtt / 2;
        f->rtt_known = true;
    } else {
        int64_t d = f->srtt_ns > rtt ? f->srtt_ns - rtt : rtt - f->srtt_ns;
        f->rttvar_ns += (d - f->rttvar_ns) / 4;
        f->srtt_ns += (rtt - f->srtt_ns) / 8;
    }
    f->rto_ns = f->srtt_ns + EMU_MAX(NS_PER_MS, 4 * f->rttvar_ns);
    f->rto_ns = EMU_MIN(EMU_MAX(f->rto_ns, TCP_RTO_MIN), TCP_RTO_MAX);
}

/* CUBIC's factor (RFC 9438 §4.6). Not below the first window: the path is a cable whose one queue, the NIC's ring, says when it is full, so a loss is
 * no sign of others that want a share. */
static uint32_t tcp_less_window(const struct tcp_flow *f) { return EMU_MAX(f->cwnd / 10 * 7, TCP_FIRST_SEGMENTS * f->mss); }

static void tcp_enter_recovery(struct tcp_flow *f)
{
    if (f->in_recovery || f->in_loss)
        return;
    f->in_recovery = true;
    f->recover = f->snd_nxt;
    f->ssthresh = tcp_less_window(f);
    f->cwnd = f->ssthresh;
}

/* RFC 8985 §6.2 step 5, and RFC 6675's duplicate threshold while no reordering was seen. */
static void tcp_find_lost(struct tcp_flow *f, int64_t now)
{
    int64_t window = f->reordered ? EMU_MAX(f->srtt_ns / 2, 2 * NS_PER_MS) : f->min_rtt_ns / 4;
    uint32_t above = 0;
    bool lost = false;
    unsigned i;
    f->rack_at = 0;
    for (i = f->chunk_count; i-- > 0;) {
        struct tcp_chunk *c = tcp_chunk(f, i);
        if (c->flags & TCP_CHUNK_SACKED) {
            above += c->end - c->seq;
            continue;
        }
        if (c->flags & TCP_CHUNK_LOST)
            continue;
        if (!(c->flags & TCP_CHUNK_AGAIN) && !f->reordered && above >= 3 * f->mss) {
            tcp_chunk_lost(f, c);
            lost = true;
        } else if (f->rack_known && (c->sent_ns < f->rack_sent_ns || (c->sent_ns == f->rack_sent_ns && tcp_lt(c->end, f->rack_end)))) {
            int64_t due = c->sent_ns + f->rack_rtt_ns + window;
            if (now >= due) {
                tcp_chunk_lost(f, c);
                lost = true;
            } else if (!f->rack_at || due < f->rack_at) {
                f->rack_at = due;
            }
        }
    }
    if (lost)
        tcp_enter_recovery(f);
}

/* Marks [from, to) as arrived. */
static void tcp_take_sack(struct tcp_flow *f, uint32_t from, uint32_t to, int64_t now, int64_t *sample, uint32_t *delivered)
{
    unsigned i, low = 0, high = f->chunk_count;
    while (low < high) { /* first chunk that ends behind `from` */
        unsigned mid = (low + high) / 2;
        if (tcp_le(tcp_chunk(f, mid)->end, from))
            low = mid + 1;
        else
            high = mid;
    }
    for (i = low; i < f->chunk_count; i++) {
        struct tcp_chunk *c = tcp_chunk(f, i);
        if (tcp_le(to, c->seq))
            break;
        if (c->flags & TCP_CHUNK_SACKED)
            continue;
        if (tcp_lt(c->seq, from)) {
            if (!tcp_chunk_split(f, i, from))
                return;
            continue; /* the part behind `from` comes next */
        }
        if (tcp_lt(to, c->end)) {
            if (!tcp_chunk_split(f, i, to))
                return;
            c = tcp_chunk(f, i);
        }
        if (!(c->flags & TCP_CHUNK_LOST))
            f->pipe -= c->end - c->seq;
        if (!(c->flags & TCP_CHUNK_AGAIN) && i + 1 < f->chunk_count && (tcp_chunk(f, i + 1)->flags & TCP_CHUNK_SACKED))
            f->reordered = f->reordered || !(c->flags & TCP_CHUNK_LOST); /* came after one that was sent later */
        c->flags = (uint8_t)((c->flags & ~TCP_CHUNK_LOST) | TCP_CHUNK_SACKED);
        f->sacked_bytes += c->end - c->seq;
        *delivered += c->end - c->seq;
        tcp_chunk_delivered(f, c, now, sample);
    }
}

static void tcp_restart_rto(struct tcp_flow *f, int64_t now)
{
    f->rto_is_probe = false;
    if (!f->chunk_count) {
        f->rto_at = 0;
        return;
    }
    f->rto_at = now + EMU_MIN(f->rto_ns << f->backoff, TCP_RTO_MAX);
    /* RFC 8985 §7.2; a few, and in recovery too: with the ring full of what the guest holds already, a retransmission that is lost again has nothing
     * behind it that would show the loss */
    if (f->sack_ok && f->rtt_known && f->probes < TCP_PROBES && !f->backoff) {
        int64_t probe = now + (EMU_MAX(2 * f->srtt_ns, 10 * NS_PER_MS) << f->probes) + (f->pipe <= f->mss && !f->sacked_bytes ? 40 * NS_PER_MS : 0);
        if (probe < f->rto_at) {
            f->rto_at = probe;
            f->rto_is_probe = true;
        }
    }
}

/* RFC 5681 §3.1, with bytes counted (RFC 3465). */
static void tcp_grow_cwnd(struct tcp_flow *f, uint32_t delivered, uint32_t pipe_before)
{
    if (f->in_recovery || pipe_before < f->cwnd / 2) /* not what limits us */
        return;
    if (f->cwnd < f->ssthresh)
        f->cwnd += delivered;
    else
        f->cwnd += (uint32_t)EMU_MAX((uint64_t)f->mss * delivered / f->cwnd, (uint64_t)1);
    f->cwnd = EMU_MIN(f->cwnd, 2 * TCP_RING_MAX);
}

static void tcp_take_ack(struct tcp_flow *f, const struct tcp_segment *s)
{
    int64_t now = emu_now_ns(f->nat->emu), sample = -1;
    uint32_t delivered = 0, pipe_before = f->pipe;
    bool advanced = tcp_lt(f->snd_una, s->ack), was_zero = f->snd_wnd == 0;
    unsigned i;
    if (tcp_lt(f->snd_wl1, s->seq) || (f->snd_wl1 == s->seq && tcp_le(f->snd_wl2, s->ack))) {
        bool same = f->snd_wnd == s->window;
        if (!advanced && same && !s->size && !(s->flags & TCP_FIN) && f->chunk_count)
            f->dupacks++;
        f->snd_wnd = s->window;
        f->max_wnd = EMU_MAX(f->max_wnd, s->window);
        f->snd_wl1 = s->seq;
        f->snd_wl2 = s->ack;
    }
    if (advanced) {
        if (tcp_lt(f->snd_nxt, s->ack)) /* a window probe was taken */
            f->snd_nxt = s->ack;
        while (f->chunk_count) {
            struct tcp_chunk *c = tcp_chunk(f, 0);
            uint32_t gone;
            if (tcp_le(s->ack, c->seq))
                break;
            gone = tcp_le(c->end, s->ack) ? c->end - c->seq : s->ack - c->seq;
            if (c->flags & TCP_CHUNK_SACKED)
                f->sacked_bytes -= gone;
            else {
                delivered += gone;
                if (!(c->flags & TCP_CHUNK_LOST))
                    f->pipe -= gone;
            }
            if (tcp_lt(s->ack, c->end)) {
                c->seq = s->ack;
                break;
            }
            if (!(c->flags & TCP_CHUNK_SACKED)) {
                if (f->sacked_bytes && !(c->flags & (TCP_CHUNK_AGAIN | TCP_CHUNK_LOST)))
                    f->reordered = true;
                tcp_chunk_delivered(f, c, now, &sample);
            }
            f->chunk_first++;
            f->chunk_count--;
        }
        if (!f->chunk_count) {
            f->chunk_first = 0;
            f->any_again = false;
        }
        f->snd_una = s->ack;
        f->dupacks = 0;
        f->retries = 0;
        f->backoff = 0;
        f->probes = 0;
        if (f->fin_sent && s->ack == f->tx_end + 1)
            f->fin_acked = true;
    } else if (was_zero) {
        f->retries = 0;
    }
    if (f->sack_ok)
        for (i = 0; i < s->sacks; i++)
            if (tcp_lt(f->snd_una, s->sack[i].to) && tcp_le(f->snd_una, s->sack[i].from) && tcp_lt(s->sack[i].from, s->sack[i].to) && tcp_le(s->sack[i].to, f->snd_nxt))
                tcp_take_sack(f, s->sack[i].from, s->sack[i].to, now, &sample, &delivered);
    if (sample >= 0)
        tcp_measured(f, sample);
    if ((f->in_recovery || f->in_loss) && tcp_le(f->recover, f->snd_una))
        f->in_recovery = f->in_loss = false;
    if (f->sacked_bytes || f->any_again)
        tcp_find_lost(f, now);
    else
        f->rack_at = 0;
    if (!f->sack_ok && f->chunk_count && (f->in_recovery ? advanced : f->dupacks == 3 && !f->in_loss)) { /* RFC 6582 */
        struct tcp_chunk *c = tcp_chunk(f, 0);
        if (c->end - c->seq > f->mss && !(c->flags & TCP_CHUNK_LOST))
            tcp_chunk_split(f, 0, c->seq + f->mss);
        tcp_chunk_lost(f, tcp_chunk(f, 0));
        tcp_enter_recovery(f);
        f->again_now = true;
    }
    if (delivered)
        tcp_grow_cwnd(f, delivered, pipe_before);
    if (advanced || delivered)
        tcp_restart_rto(f, now);
    else if (was_zero && f->snd_wnd && !f->chunk_count) {
        f->rto_at = 0;
        f->backoff = 0;
    }
}

/* ---- sending ---- */

static uint32_t tcp_largest(const struct tcp_flow *f)
{
    const struct net_port *peer = f->nat->port.peer;
    uint32_t most = 65535 - 60 - NAT_IP6_BYTES;
    if (!peer || !peer->takes_gso)
        return f->mss;
    return most > f->mss ? most - most % f->mss : f->mss;
}

/* Lost chunks go first. false: stop sending. */
static bool tcp_send_again(struct tcp_flow *f, int64_t now)
{
    unsigned i;
    bool first = true;
    if (!f->chunk_count || tcp_chunk(f, f->chunk_count - 1)->end - tcp_chunk(f, 0)->seq == f->pipe + f->sacked_bytes) /* invariant 3: none is lost */
        return true;
    for (i = 0; i < f->chunk_count; i++) {
        struct tcp_chunk *c = tcp_chunk(f, i);
        uint32_t room, size, data;
        bool fin;
        if (!(c->flags & TCP_CHUNK_LOST))
            continue;
        room = f->cwnd > f->pipe ? f->cwnd - f->pipe : 0;
        if (room < f->mss) {
            if (!first || (f->pipe && !f->again_now))
                return false;
            room = f->mss;
        }
        room = EMU_MIN(room, tcp_largest(f));
        if (c->end - c->seq > room + 1 || (c->end - c->seq == room + 1 && !tcp_lt(f->tx_end, c->end))) {
            if (!tcp_chunk_split(f, i, c->seq + room))
                return false;
            c = tcp_chunk(f, i);
        }
        size = c->end - c->seq;
        fin = f->fin_sent && tcp_lt(f->tx_end, c->end);
        data = size - (fin ? 1 : 0);
        if (!tcp_send_segment(f, c->seq, data, (uint8_t)(TCP_ACK | (fin ? TCP_FIN : 0) | TCP_PSH)))
            return false;
        c->flags = (uint8_t)((c->flags & ~TCP_CHUNK_LOST) | TCP_CHUNK_AGAIN);
        c->sent_ns = now;
        f->any_again = true;
        f->pipe += size;
        first = f->again_now = false;
        if (!f->rto_at || f->rto_is_probe)
            tcp_restart_rto(f, now);
    }
    return true;
}

/* New data, up to size bytes of it. false: blocked. */
static bool tcp_send_new(struct tcp_flow *f, uint32_t size, bool fin, int64_t now)
{
    struct tcp_chunk *c;
    if (!tcp_chunk_room(f))
        return false;
    if (!tcp_send_segment(f, f->snd_nxt, size, (uint8_t)(TCP_ACK | (fin ? TCP_FIN : 0) | (f->snd_nxt + size == f->tx_end && size ? TCP_PSH : 0))))
        return false;
    c = &f->chunks[f->chunk_first + f->chunk_count++];
    c->seq = f->snd_nxt;
    c->end = f->snd_nxt + size + (fin ? 1 : 0);
    c->sent_ns = now;
    c->flags = 0;
    f->snd_nxt = c->end;
    if (tcp_lt(f->snd_max, f->snd_nxt))
        f->snd_max = f->snd_nxt;
    f->pipe += c->end - c->seq;
    if (fin) {
        f->fin_sent = true;
        f->fin_first = !f->guest_fin;
    }
    if (f->chunk_count == 1 || !f->rto_at || f->rto_is_probe)
        tcp_restart_rto(f, now);
    return true;
}

static void tcp_send_data(struct tcp_flow *f, int64_t now)
{
    uint32_t largest = tcp_largest(f);
    while (!f->fin_sent) {
        uint32_t left = f->tx_end - f->snd_nxt, edge = f->snd_una + f->snd_wnd, room, size;
        bool fin = false;
        room = tcp_lt(f->snd_nxt, edge) ? edge - f->snd_nxt : 0;
        if (f->pipe >= f->cwnd) {
            /* RFC 3042: two segments beyond the window keep duplicate ACKs coming */
            if (f->sack_ok || !f->dupacks || f->dupacks > 2 || f->pipe >= f->cwnd + 2 * f->mss)
                break;
            room = EMU_MIN(room, f->mss);
        } else {
            room = EMU_MIN(room, f->cwnd - f->pipe);
        }
        size = EMU_MIN(EMU_MIN(left, room), largest);
        if (size == left && f->host_eof && !f->host_reset) {
            if (size == left && size < room + (size == 0))
                fin = true;
        }
        if (!size && !fin)
            break;
        if (size < left && size < largest) { /* silly window and super-frame economy: more room comes with the next ACK */
            if (size < f->mss && size < f->max_wnd / 2)
                break;
            if (f->pipe && size < EMU_MIN(largest, f->cwnd / 4))
                break;
            if (size > f->mss)
                size -= size % f->mss;
        }
        if (!tcp_send_new(f, size, fin, now))
            return;
        if (fin)
            return;
    }
    if (!f->chunk_count && !f->fin_sent && (f->tx_end != f->snd_nxt || f->host_eof) && !f->rto_at && !f->nat->blocked) { /* persist: RFC 9293 §3.8.6.1 */
        f->rto_at = now + EMU_MIN(f->rto_ns << f->backoff, TCP_RTO_MAX);
        f->rto_is_probe = false;
    }
}

static void tcp_output(struct tcp_flow *f)
{
    struct nat *n = f->nat;
    int64_t now = emu_now_ns(n->emu);
    if (f->state == TCP_OPEN) {
        if (!n->blocked && tcp_send_again(f, now))
            tcp_send_data(f, now);
        if (f->host_reset && f->snd_nxt == f->tx_end && !n->blocked) {
            tcp_reset_guest(f);
            return;
        }
    }
    if (f->need_ack && f->state >= TCP_OPEN && f->state != TCP_DEAD) {
        if (f->lazy_frames && f->lazy_frames < TCP_ACK_FRAMES && !f->ack_at)
            f->ack_at = now + TCP_ACK_NS;
        if (!f->lazy_frames || f->lazy_frames >= TCP_ACK_FRAMES)
            tcp_send_ack(f);
    }
    if (n->blocked)
        tcp_want_work(f);
    tcp_arm(f);
}

static void tcp_send_syn(struct tcp_flow *f)
{
    int64_t now = emu_now_ns(f->nat->emu);
    bool sent = tcp_send_segment(f, f->iss, 0, f->state == TCP_SYN_SENT ? TCP_SYN : TCP_SYN | TCP_ACK);
    f->snd_nxt = f->iss + 1;
    f->snd_max = f->snd_nxt;
    f->rto_at = now + (TCP_RTO_FIRST << EMU_MIN(f->retries, 6u));
    if (!sent) { /* the NIC is full: not a try */
        f->rto_at = now + 20 * NS_PER_MS;
        if (f->retries)
            f->retries--;
    }
    tcp_arm(f);
}

/* ---- timers ---- */

/* Sends one segment again to get an answer: the oldest missing one if the guest has later ones, else the newest. */
static void tcp_tail_probe(struct tcp_flow *f, int64_t now)
{
    unsigned i = f->sacked_bytes ? 0 : f->chunk_count - 1;
    struct tcp_chunk *c = tcp_chunk(f, i);
    uint32_t size;
    bool fin;
    f->probes++;
    if (!(c->flags & (TCP_CHUNK_SACKED | TCP_CHUNK_LOST))) {
        if (c->end - c->seq > f->mss) {
            if (!tcp_chunk_split(f, i, i ? c->end - f->mss : c->seq + f->mss))
                goto out;
            c = tcp_chunk(f, i ? f->chunk_count - 1 : 0);
        }
        fin = f->fin_sent && tcp_lt(f->tx_end, c->end);
        size = c->end - c->seq - (fin ? 1 : 0);
        if (tcp_send_segment(f, c->seq, size, (uint8_t)(TCP_ACK | TCP_PSH | (fin ? TCP_FIN : 0)))) {
            c->flags |= TCP_CHUNK_AGAIN;
            c->sent_ns = now;
            f->any_again = true;
        }
    }
out:
    tcp_restart_rto(f, now);
}

/* RFC 6298 §5, RFC 5681 §3.1: everything in flight is taken for lost. */
static void tcp_timeout(struct tcp_flow *f, int64_t now)
{
    unsigned i;
    if (!f->chunk_count) { /* persist */
        uint32_t left = f->fin_sent ? 0 : f->tx_end - f->snd_nxt; /* the FIN counts in snd_nxt */
        if (++f->retries > TCP_RETRIES) {
            tcp_send_reset(f);
            tcp_reset_host(f);
            return;
        }
        if (f->backoff < 8)
            f->backoff++;
        f->rto_at = now + EMU_MIN(f->rto_ns << f->backoff, TCP_RTO_MAX);
        if (left) {
            if (tcp_send_segment(f, f->snd_nxt, 1, TCP_ACK | TCP_PSH) && f->snd_max == f->snd_nxt)
                f->snd_max = f->snd_nxt + 1;
        } else if (f->host_eof && !f->fin_sent) {
            f->rto_at = 0;
            tcp_send_new(f, 0, true, now);
        } else {
            f->rto_at = 0;
        }
        return;
    }
    if (++f->retries > TCP_RETRIES) {
        tcp_reset_host(f);
        return;
    }
    for (i = 0; i < f->chunk_count; i++) {
        struct tcp_chunk *c = tcp_chunk(f, i);
        if (f->retries > 1 && (c->flags & TCP_CHUNK_SACKED)) { /* RFC 2018 §8: the guest may have changed its mind */
            c->flags &= (uint8_t)~TCP_CHUNK_SACKED;
            c->flags |= TCP_CHUNK_LOST;
            f->sacked_bytes -= c->end - c->seq;
        } else {
            tcp_chunk_lost(f, c);
        }
    }
    if (f->retries == 1 && !f->in_loss)
        f->ssthresh = tcp_less_window(f);
    f->cwnd = f->mss;
    f->in_recovery = false;
    f->in_loss = true;
    f->recover = f->snd_nxt;
    f->rack_at = 0;
    f->dupacks = 0;
    if (f->backoff < 8)
        f->backoff++;
    f->rto_at = now + EMU_MIN(f->rto_ns << f->backoff, TCP_RTO_MAX);
    f->rto_is_probe = false;
}

static void tcp_life(struct tcp_flow *f, int64_t now)
{
    int64_t quiet;
    f->life_at = 0;
    if (f->state == TCP_TIME_WAIT) {
        tcp_kill(f);
        return;
    }
    quiet = now - f->heard_ns;
    if (quiet < TCP_KEEPALIVE_NS) {
        f->keepalives = 0;
        f->life_at = f->heard_ns + TCP_KEEPALIVE_NS;
        return;
    }
    if (f->keepalives++ >= TCP_KEEPALIVE_TRIES) {
        tcp_send_reset(f);
        tcp_reset_host(f);
        return;
    }
    tcp_send_segment(f, f->snd_una - 1, 0, TCP_ACK);
    f->life_at = now + TCP_KEEPALIVE_STEP_NS;
}

static void tcp_on_timer(void *opaque)
{
    struct tcp_flow *f = opaque;
    int64_t now = emu_now_ns(f->nat->emu);
    if (f->life_at && now >= f->life_at)
        tcp_life(f, now);
    if (f->state == TCP_DEAD)
        return;
    if (f->rack_at && now >= f->rack_at)
        tcp_find_lost(f, now);
    if (f->ack_at && now >= f->ack_at) {
        f->ack_at = 0;
        f->lazy_frames = 0; /* tcp_settle() below sends it */
    }
    if (f->quiet_at && now >= f->quiet_at) {
        f->quiet_at = 0;
        f->host_eof = true;
    }
    if (f->rto_at && now >= f->rto_at) {
        f->rto_at = 0;
        switch (f->state) {
        case TCP_SYN_SENT:
            if (++f->retries >= TCP_SYN_TRIES) {
                tcp_reset_host(f);
                return;
            }
            tcp_send_syn(f);
            break;
        case TCP_SYN_RCVD:
            if (++f->retries >= 7) {
                tcp_reset_host(f);
                return;
            }
            tcp_send_syn(f);
            break;
        case TCP_OPEN:
            if (f->rto_is_probe && f->chunk_count)
                tcp_tail_probe(f, now);
            else
                tcp_timeout(f, now);
            break;
        default: break;
        }
    }
    if (f->state != TCP_DEAD)
        tcp_settle(f);
}

/* ---- the host's side ---- */

static void tcp_watch(struct tcp_flow *f)
{
    unsigned want = 0;
    uint32_t space = f->tx.capacity - (f->tx_end - f->snd_una);
    if (!f->watching)
        return;
    if (f->state == TCP_CONNECTING)
        want = HOST_WRITE;
    else if (f->state == TCP_OPEN) {
        if (!f->host_eof && !f->host_reset && space >= f->tx.capacity / 8)
            want |= HOST_READ;
        if (f->host_blocked)
            want |= HOST_WRITE;
    }
    if (want != f->watch.want)
        watch_want(&f->watch, want);
}

static void tcp_pull(struct tcp_flow *f);

/* The host's socket broke while the guest still has something to say to it. What the host said before comes first, then the reset; what the
 * guest says meanwhile is acknowledged and dropped. */
static void tcp_host_failed(struct tcp_flow *f)
{
    if (f->chr || f->fin_sent) {
        tcp_reset_guest(f);
        return;
    }
    f->host_deaf = true;
    f->host_blocked = false;
    f->rx_head += tcp_rx_size(f);
    tcp_pull(f);
    if (f->host_eof)
        f->host_reset = true;
    tcp_want_work(f);
}

/* rx -> host. */
static void tcp_push(struct tcp_flow *f)
{
    struct host_iov v[2];
    if (f->host_deaf)
        f->rx_head += tcp_rx_size(f);
    while (tcp_rx_size(f) && !f->host_blocked && f->state == TCP_OPEN) {
        int count = tcp_ring_pieces(&f->rx, f->rx_head, tcp_rx_size(f), v), done;
        if (f->chr)
            done = chr_write(f->chr, v[0].base, EMU_MIN(v[0].size, (size_t)65536));
        else
            done = host_writev(f->fd, v, count);
        if (done == EMU_EAGAIN || (done == 0 && f->chr)) {
            f->host_blocked = true;
            break;
        }
        if (done < 0) {
            tcp_host_failed(f);
            break;
        }
        f->rx_head += (uint32_t)done;
        f->bytes_out += (uint32_t)done;
    }
    if (f->state == TCP_OPEN && f->guest_fin && !tcp_rx_size(f) && !f->shut_down) {
        f->shut_down = true;
        if (f->fd != HOST_FD_NONE)
            host_shutdown_write(f->fd);
        if (f->chr && !f->host_eof) { /* a character device has no half-close and says no end: its answer is over when it falls silent */
            f->quiet_at = emu_now_ns(f->nat->emu) + TCP_LINE_QUIET_NS;
            tcp_arm(f);
        }
    }
}

/* host -> tx. */
static void tcp_pull(struct tcp_flow *f)
{
    struct host_iov v[2];
    uint32_t used = f->tx_end - f->snd_una, space, odd;
    int count, got;
    if (f->fd == HOST_FD_NONE || f->host_eof || f->state != TCP_OPEN || !tcp_ring_use(f->nat, &f->tx))
        return;
    if (used > f->tx.capacity / 2 && f->tx.capacity < TCP_RING_MAX && f->snd_wnd > f->tx.capacity / 2 &&
        ((f->cwnd > f->tx.capacity / 2 && (f->srtt_ns > TCP_LONG_RTT_NS || f->tx.capacity < TCP_RING_FIRST)) || f->sacked_bytes > f->tx.capacity / 4))
        tcp_ring_grow(f->nat, &f->tx, f->snd_una, used);
    space = EMU_MIN(f->tx.capacity - used, TCP_PULL);
    if (!space)
        return;
    odd = (f->tx_end - f->snd_nxt + space) % tcp_largest(f); /* a stream leaves no small frame behind each pull */
    if (odd < space)
        space -= odd;
    count = tcp_ring_pieces(&f->tx, f->tx_end, space, v);
    got = host_readv(f->fd, v, count);
    if (got > 0) {
        f->tx_end += (uint32_t)got;
    } else if (got == 0) {
        f->host_eof = true;
        f->host_reset = f->host_deaf;
    } else if (got != EMU_EAGAIN || f->host_deaf) { /* deaf: nothing is left to read, whatever the socket may still be good for */
        f->host_reset = true; /* after what was read before */
    }
}

static void tcp_ready(void *opaque, unsigned events)
{
    struct tcp_flow *f = opaque;
    if (f->state == TCP_DEAD)
        return;
    if (f->state == TCP_CONNECTING) {
        int r;
        if (!(events & (HOST_WRITE | HOST_ERROR)))
            return;
        r = host_socket_error(f->fd);
        if (r) {
            if (f->is_dns && ++f->resolver < f->nat->resolver_count) {
                tcp_close_host(f);
                tcp_connect_host(f);
                return;
            }
            if (r == EMU_EUNREACH || r == EMU_ETIMEDOUT || r == EMU_EACCES) {
                uint8_t quote[8];
                st16be(quote, f->guest_port);
                st16be(quote + 2, f->remote_port);
                st32be(quote + 4, f->irs);
                icmp_error_about(f->nat, NAT_UNREACH_HOST, NULL, &f->guest, &f->remote, NAT_PROTO_TCP, quote, 20);
                tcp_kill(f);
            } else {
                tcp_reset_guest(f);
            }
            return;
        }
        f->state = TCP_SYN_RCVD;
        f->connect_until_host_ns = 0;
        tcp_watch(f);
        tcp_want_work(f);
        f->need_ack = true; /* the work round sends the SYN-ACK */
        return;
    }
    if (events & (HOST_READ | HOST_ERROR))
        tcp_pull(f);
    if (events & (HOST_WRITE | HOST_ERROR)) {
        f->host_blocked = false;
        tcp_push(f);
    }
    if (f->state != TCP_DEAD)
        tcp_watch(f);
    tcp_want_work(f);
}

/* What follows from the flow's present state: output, watches, growth, the end. */
static void tcp_settle(struct tcp_flow *f)
{
    if (f->state == TCP_OPEN) {
        uint32_t edge;
        tcp_push(f);
        if (f->chr && !f->host_eof) /* the line stopped while nobody was connected or there was no room */
            chr_accept_input(f->chr);
        if (f->state == TCP_OPEN) {
            edge = f->rx_head + f->rx.capacity;
            if (tcp_lt(f->rcv_adv, edge) && !f->guest_fin && f->rx_head != f->irs + 1 &&
                edge - f->rcv_adv >= (f->closed_window ? EMU_MIN(f->rx.capacity / 2, tcp_our_mss(f)) : EMU_MIN(f->rx.capacity / 2, EMU_MAX(f->rx.capacity / 4, 2 * tcp_our_mss(f))))) {
                f->need_ack = true; /* the window opened */
                f->lazy_frames = 0;
            }
            tcp_output(f);
        }
        if (f->state == TCP_OPEN && f->guest_fin && f->fin_acked && !tcp_rx_size(f)) {
            if (f->need_ack)
                tcp_send_ack(f);
            tcp_close_host(f);
            if (f->fin_first) {
                f->state = TCP_TIME_WAIT;
                f->rto_at = f->rack_at = 0;
                f->life_at = emu_now_ns(f->nat->emu) + TCP_TIME_WAIT_NS;
                tcp_free_rings(f);
                tcp_arm(f);
            } else {
                tcp_kill(f);
            }
        }
    } else if (f->state == TCP_TIME_WAIT) {
        if (f->need_ack)
            tcp_send_ack(f);
        tcp_arm(f);
    } else if (f->state == TCP_SYN_RCVD && f->need_ack) {
        f->need_ack = false;
        tcp_send_syn(f);
    } else {
        tcp_arm(f);
    }
    if (f->state != TCP_DEAD)
        tcp_watch(f);
}

/* A work round: every flow that asked, once. Called by nat.c's timer and by kick. The flow that filled the guest's NIC goes behind those that
 * found it full, or it would fill it again each time. */
EMU_PRIV void tcp_kick(struct nat *n)
{
    struct tcp_flow *list = n->tcp_work, *f, *filled = NULL;
    n->tcp_work = n->tcp_work_last = NULL;
    while ((f = list)) {
        bool blocked = n->blocked;
        list = f->work_next;
        f->in_work = false;
        if (f->state == TCP_DEAD) {
            tcp_free(f);
            continue;
        }
        tcp_settle(f);
        if (n->blocked && !blocked)
            filled = f;
    }
    if (filled && filled == n->tcp_work && filled->work_next) {
        n->tcp_work = filled->work_next;
        filled->work_next = NULL;
        n->tcp_work_last->work_next = filled;
        n->tcp_work_last = filled;
    }
}

/* ---- receiving ---- */

/* Puts [from, to) into the list of out-of-order ranges. false: too many. */
static bool tcp_range_add(struct tcp_flow *f, uint32_t from, uint32_t to)
{
    unsigned i = 0, j;
    while (i < f->range_count && tcp_lt(f->ranges[i].to, from))
        i++;
    for (j = i; j < f->range_count && tcp_le(f->ranges[j].from, to); j++) {
        if (tcp_lt(f->ranges[j].from, from))
            from = f->ranges[j].from;
        if (tcp_lt(to, f->ranges[j].to))
            to = f->ranges[j].to;
    }
    if (j == i) { /* touches none */
        if (f->range_count == f->range_capacity) {
            unsigned capacity = f->range_capacity ? f->range_capacity * 2 : 8;
            struct tcp_range *r = f->range_capacity < TCP_RANGES ? emu_realloc(f->nat->emu, f->ranges, capacity * sizeof *r) : NULL;
            if (!r)
                return false;
            f->ranges = r;
            f->range_capacity = capacity;
        }
        memmove(&f->ranges[i + 1], &f->ranges[i], (f->range_count - i) * sizeof *f->ranges);
        f->range_count++;
    } else if (j > i + 1) {
        memmove(&f->ranges[i + 1], &f->ranges[j], (f->range_count - j) * sizeof *f->ranges);
        f->range_count -= j - i - 1;
    }
    f->ranges[i].from = from;
    f->ranges[i].to = to;
    return true;
}

/* Ranges that rcv_nxt reached belong to the stream now. */
static void tcp_range_join(struct tcp_flow *f)
{
    unsigned gone = 0;
    while (gone < f->range_count && tcp_le(f->ranges[gone].from, f->rcv_nxt)) {
        if (tcp_lt(f->rcv_nxt, f->ranges[gone].to))
            f->rcv_nxt = f->ranges[gone].to;
        gone++;
    }
    if (gone) {
        f->range_count -= gone;
        memmove(f->ranges, f->ranges + gone, f->range_count * sizeof *f->ranges);
    }
}

static void tcp_copy_in(struct tcp_flow *f, struct pkt *p, size_t offset, uint32_t seq, uint32_t size)
{
    struct host_iov v[2];
    int i, count = tcp_ring_pieces(&f->rx, seq, size, v);
    for (i = 0; i < count; i++) {
        net_frame_copy(p->frame, offset, v[i].base, v[i].size);
        offset += v[i].size;
    }
}

/* In-order payload straight from the frame to the socket; bytes that it took. */
static uint32_t tcp_write_direct(struct tcp_flow *f, struct pkt *p, size_t offset, uint32_t size)
{
    struct host_iov v[NET_FRAME_MAX_PIECES];
    int i, count = 0, done;
    size_t left = size;
    for (i = 0; i < p->frame->count && left; i++) {
        const struct host_iov *from = &p->frame->pieces[i];
        if (offset >= from->size) {
            offset -= from->size;
            continue;
        }
        if (count == NET_FRAME_MAX_PIECES)
            break;
        v[count].base = (uint8_t *)from->base + offset;
        v[count].size = EMU_MIN(from->size - offset, left);
        left -= v[count++].size;
        offset = 0;
    }
    done = host_writev(f->fd, v, count);
    if (done == EMU_EAGAIN) {
        f->host_blocked = true;
        return 0;
    }
    if (done < 0) {
        tcp_host_failed(f);
        return 0;
    }
    if ((uint32_t)done < size)
        f->host_blocked = true;
    f->bytes_out += (uint32_t)done;
    return (uint32_t)done;
}

static void tcp_take_data(struct tcp_flow *f, struct pkt *p, const struct tcp_segment *s)
{
    uint32_t seq = s->seq, size = (uint32_t)s->size, skip;
    size_t offset = s->data;
    bool fin = (s->flags & TCP_FIN) != 0;
    if (!size && !fin)
        return;
    /* An acknowledgement costs the guest an interrupt, and a guest whose every frame is answered at once never has two in flight, so that
     * its window stays small and its frames with it. */
    if (size >= TCP_DIRECT && size > 2 * f->mss && seq == f->rcv_nxt && !fin && !f->range_count && !f->closed_window && (f->lazy_frames || !f->need_ack))
        f->lazy_frames++;
    else
        f->lazy_frames = 0;
    f->need_ack = true;
    if (f->guest_fin) /* nothing can follow */
        return;
    if (fin) {
        f->fin_known = true;
        f->fin_seq = seq + size;
    }
    if (tcp_lt(seq, f->rcv_nxt)) {
        skip = EMU_MIN(f->rcv_nxt - seq, size);
        if (skip && f->sack_ok) {
            f->duplicate.from = seq;
            f->duplicate.to = seq + skip;
        }
        seq += skip;
        offset += skip;
        size -= skip;
    }
    if (size && tcp_lt(f->rcv_adv, seq + size)) { /* beyond the window */
        size = tcp_lt(seq, f->rcv_adv) ? f->rcv_adv - seq : 0;
        if (fin && tcp_lt(f->rcv_adv, f->fin_seq))
            f->fin_known = false;
    }
    if (size && seq == f->rcv_nxt) {
        if (size >= TCP_DIRECT && f->rx_head == f->rcv_nxt && !f->range_count && !f->host_blocked && !f->host_deaf && f->fd != HOST_FD_NONE) {
            uint32_t done = tcp_write_direct(f, p, offset, size);
            if (f->state == TCP_DEAD)
                return;
            f->rx_head += done;
            f->rcv_nxt += done;
            f->rx_since_grow += done;
            seq += done;
            offset += done;
            size -= done;
        }
        if (size && !tcp_ring_use(f->nat, &f->rx))
            return;
        if (size) {
            tcp_copy_in(f, p, offset, seq, size);
            f->rcv_nxt += size;
            f->rx_since_grow += size;
            tcp_range_join(f);
            if (tcp_rx_size(f) >= TCP_FLUSH)
                tcp_push(f);
        }
    } else if (size && tcp_lt(f->rcv_nxt, seq)) {
        if (tcp_ring_use(f->nat, &f->rx) && tcp_range_add(f, seq, seq + size)) {
            tcp_copy_in(f, p, offset, seq, size);
            f->newest_range = seq;
            f->has_newest = true;
        }
    }
    if (f->state != TCP_OPEN)
        return;
    if (f->fin_known && f->fin_seq == f->rcv_nxt) {
        f->rcv_nxt++;
        f->guest_fin = true;
        f->range_count = 0;
    }
    if (f->rx_since_grow >= f->rx.capacity && f->rx.capacity < TCP_RING_MAX && f->scale_ok && tcp_rx_size(f) <= f->rx.capacity / 4) {
        tcp_ring_grow(f->nat, &f->rx, f->rx_head, tcp_rx_end(f) - f->rx_head);
        f->rx_since_grow = 0;
    }
}

/* false: malformed. */
static bool tcp_parse(struct pkt *p, struct tcp_segment *s)
{
    const uint8_t *t = pkt_bytes(p, p->l4, 20);
    size_t header, i;
    memset(s, 0, sizeof *s);
    if (!t || p->end - p->l4 < 20)
        return false;
    header = (size_t)(t[12] >> 4) * 4;
    if (header < 20 || header > p->end - p->l4 || !(t = pkt_bytes(p, p->l4, header)))
        return false;
    s->seq = ld32be(t + 4);
    s->ack = ld32be(t + 8);
    s->flags = t[13] & 0x3F;
    s->window = ld16be(t + 14);
    s->data = p->l4 + header;
    s->size = p->end - s->data;
    for (i = 20; i < header && t[i];) {
        size_t left = header - i, size;
        if (t[i] == 1) {
            i++;
            continue;
        }
        if (left < 2 || (size = t[i + 1]) < 2 || size > left) /* RFC 9293 §3.1: a length that cannot be ends the list */
            break;
        switch (t[i]) {
        case 2:
            if (size == 4)
                s->mss = ld16be(t + i + 2);
            break;
        case 3:
            if (size == 3) {
                s->has_scale = true;
                s->scale = (uint8_t)EMU_MIN(t[i + 2], 14);
            }
            break;
        case 4: s->sack_ok = s->sack_ok || size == 2; break;
        case 5:
            for (size = 2; size + 8 <= t[i + 1] && s->sacks < 4; size += 8) {
                s->sack[s->sacks].from = ld32be(t + i + size);
                s->sack[s->sacks++].to = ld32be(t + i + size + 4);
            }
            size = t[i + 1];
            break;
        default: break;
        }
        i += size;
    }
    return true;
}

static void tcp_take_syn(struct tcp_flow *f, const struct tcp_segment *s)
{
    unsigned mss = s->mss ? s->mss : 536; /* RFC 9293 §3.7.1 */
    f->irs = s->seq;
    f->rcv_nxt = s->seq + 1;
    f->rcv_adv = f->rx_head = f->rcv_nxt;
    f->mss = EMU_MAX(EMU_MIN(mss, tcp_our_mss(f)), 64u);
    f->sack_ok = s->sack_ok;
    f->scale_ok = s->has_scale;
    f->snd_shift = s->has_scale ? s->scale : 0;
    if (!f->scale_ok && f->rx.capacity > 65536u) {
        f->nat->tcp_ring_bytes -= f->rx.capacity - 65536u;
        f->rx.capacity = 65536u;
    }
    f->snd_wnd = s->window;
    f->max_wnd = s->window;
    f->snd_wl1 = s->seq;
    f->snd_wl2 = s->ack;
    f->cwnd = TCP_FIRST_SEGMENTS * f->mss;
}

static void tcp_opened(struct tcp_flow *f, const struct tcp_segment *s)
{
    f->state = TCP_OPEN;
    f->snd_una = f->iss + 1;
    f->retries = 0;
    f->rto_at = 0;
    f->rto_ns = TCP_RTO_MIN;
    f->snd_wnd = s->window;
    f->max_wnd = EMU_MAX(f->max_wnd, s->window);
    f->snd_wl1 = s->seq;
    f->snd_wl2 = s->ack;
    f->life_at = f->heard_ns + TCP_KEEPALIVE_NS;
    tcp_watch(f);
}

/* ---- connecting the host's side of a guest's connection ---- */

static bool tcp_watch_start(struct tcp_flow *f)
{
    host_set_option(f->fd, HOST_OPT_NODELAY, 1);
    host_set_option(f->fd, HOST_OPT_OOBINLINE, 1);
    watch_add(f->nat->emu, &f->watch, f->fd, HOST_WRITE, tcp_ready, f);
    f->watching = true;
    return true;
}

/* Starts or continues with f->peer or the next resolver. false: failed at once, and the guest was told. */
static bool tcp_connect_host(struct tcp_flow *f)
{
    struct nat *n = f->nat;
    int r;
    for (;;) {
        if (f->is_dns) {
            if (f->resolver >= n->resolver_count) {
                tcp_reset_guest(f);
                return false;
            }
            f->peer = n->resolvers[f->resolver];
        }
        r = host_socket(&f->fd, f->peer.family, HOST_STREAM);
        if (r < 0) {
            if (r != EMU_EINVAL && r != EMU_ENOTSUP)
                nat_no_descriptors(n);
            if (!f->is_dns)
                break;
            f->resolver++;
            continue;
        }
        r = host_connect(f->fd, &f->peer);
        if (!r || r == EMU_EAGAIN) {
            f->connect_until_host_ns = host_clock_ns() + TCP_CONNECT_HOST_NS;
            tcp_watch_start(f);
            emu_poll_now(n->emu);
            if (!r)
                tcp_ready(f, HOST_WRITE);
            return true;
        }
        tcp_close_host(f);
        if (!f->is_dns)
            break;
        f->resolver++;
    }
    if (r == EMU_EUNREACH || r == EMU_EACCES || r == EMU_ETIMEDOUT) {
        uint8_t quote[8];
        st16be(quote, f->guest_port);
        st16be(quote + 2, f->remote_port);
        st32be(quote + 4, f->irs);
        icmp_error_about(n, NAT_UNREACH_HOST, NULL, &f->guest, &f->remote, NAT_PROTO_TCP, quote, 20);
        tcp_kill(f);
    } else {
        tcp_reset_guest(f);
    }
    return false;
}

static size_t tcp_chr_can_receive(void *opaque)
{
    struct nat_guestfwd *g = opaque;
    struct tcp_flow *f = g->flow;
    return f && f->state == TCP_OPEN && !f->host_eof ? f->tx.capacity - (f->tx_end - f->snd_una) : 0;
}

static void tcp_chr_receive(void *opaque, const uint8_t *buf, size_t size)
{
    struct nat_guestfwd *g = opaque;
    struct tcp_flow *f = g->flow;
    struct host_iov v[2];
    size_t room = tcp_chr_can_receive(opaque);
    if (!room || !tcp_ring_use(f->nat, &f->tx))
        return;
    size = EMU_MIN(size, room);
    tcp_ring_pieces(&f->tx, f->tx_end, (uint32_t)size, v);
    memcpy(v[0].base, buf, v[0].size);
    memcpy(v[1].base, buf + v[0].size, v[1].size);
    f->tx_end += (uint32_t)size;
    if (f->quiet_at)
        f->quiet_at = emu_now_ns(f->nat->emu) + TCP_LINE_QUIET_NS;
    tcp_want_work(f);
}

static void tcp_chr_writable(void *opaque)
{
    struct nat_guestfwd *g = opaque;
    if (g->flow) {
        g->flow->host_blocked = false;
        tcp_want_work(g->flow);
    }
}

static void tcp_chr_event(void *opaque, enum chr_event ev)
{
    struct nat_guestfwd *g = opaque;
    if (ev == CHR_CLOSED && g->flow) {
        g->flow->host_eof = true;
        tcp_want_work(g->flow);
    }
}

static void tcp_connect_guestfwd(struct tcp_flow *f, struct nat_guestfwd *g)
{
    struct err err;
    f->guestfwd = g;
    if (g->argv) {
        if (host_spawn(&f->fd, &f->pid, (const char *const *)g->argv, &err) < 0) {
            emu_log(f->nat->emu, LOG_NOTICE, "%s: guestfwd: %s", f->nat->port.name, err.text);
            f->fd = HOST_FD_NONE;
            tcp_reset_guest(f);
            return;
        }
        watch_add(f->nat->emu, &f->watch, f->fd, 0, tcp_ready, f);
        f->watching = true;
    } else {
        if (g->flow && g->flow->shut_down) { /* who has said all leaves the line to the next */
            struct tcp_flow *old = g->flow;
            old->quiet_at = 0;
            old->host_eof = true;
            old->chr = NULL;
            tcp_want_work(old);
        } else if (g->flow) { /* one stream, one user */
            tcp_reset_guest(f);
            return;
        }
        g->flow = f;
        f->chr = g->chr;
        g->chr->can_receive = tcp_chr_can_receive;
        g->chr->receive = tcp_chr_receive;
        g->chr->writable = tcp_chr_writable;
        g->chr->event = tcp_chr_event;
        g->chr->opaque = g;
    }
    f->state = TCP_SYN_RCVD;
    f->need_ack = true;
    tcp_want_work(f);
}

static void tcp_new_from_guest(struct nat *n, struct pkt *p, const struct tcp_segment *s, uint16_t guest_port, uint16_t remote_port)
{
    struct nat_guestfwd *g = nat_find_guestfwd(n, &p->dst, remote_port);
    struct nat_addr dns = nat_is_v4(&p->dst) ? nat_v4(n->dns4) : nat_v6(n->dns6);
    bool is_dns = !g && !n->restricted && remote_port == 53 && nat_addr_eq(&p->dst, &dns);
    struct host_addr peer;
    struct tcp_flow *f;
    memset(&peer, 0, sizeof peer);
    if (!g && !is_dns && !nat_to_host(n, &p->dst, remote_port, &peer)) {
        if (n->restricted)
            icmp_error(n, p, NAT_UNREACH_ADMIN);
        else if (nat_is_ours(n, &p->dst))
            tcp_refuse(n, p, s);
        else
            icmp_error(n, p, NAT_UNREACH_HOST);
        return;
    }
    f = tcp_new(n, &p->src, guest_port, &p->dst, remote_port);
    if (!f) {
        tcp_refuse(n, p, s);
        return;
    }
    f->state = TCP_CONNECTING;
    tcp_take_syn(f, s);
    f->peer = peer;
    if (g) {
        tcp_connect_guestfwd(f, g);
        return;
    }
    if (is_dns) {
        f->is_dns = true;
        dns_resolvers(n);
        f->resolver = 0;
    }
    tcp_connect_host(f);
}

EMU_PRIV void tcp_accept(struct nat *n, struct nat_hostfwd *fwd, host_fd fd, const struct host_addr *peer)
{
    struct nat_addr guest = fwd->guest, zero, remote;
    uint16_t port = peer->port;
    struct tcp_flow *f;
    unsigned tries;
    memset(&zero, 0, sizeof zero);
    if (nat_addr_eq(&guest, &zero))
        guest = nat_first_guest(n);
    remote = nat_from_host(n, peer, nat_is_v4(&guest));
    if (!port)
        port = (uint16_t)(49152 + nat_random(n) % 16384);
    for (tries = 0; tries < 1000 && tcp_find(n, &guest, fwd->guest_port, &remote, port); tries++)
        port = (uint16_t)(49152 + nat_random(n) % 16384);
    f = tcp_find(n, &guest, fwd->guest_port, &remote, port) ? NULL : tcp_new(n, &guest, fwd->guest_port, &remote, port);
    if (!f) {
        host_set_option(fd, HOST_OPT_LINGER0, 1);
        host_fd_close(fd);
        return;
    }
    f->from_host = true;
    f->fd = fd;
    f->peer = *peer;
    f->state = TCP_SYN_SENT;
    tcp_watch_start(f);
    tcp_watch(f);
    f->rcv_nxt = 0;
    tcp_send_syn(f);
}

EMU_PRIV void tcp_arp_known(struct nat *n, const struct nat_addr *ip)
{
    struct tcp_flow *f;
    for (f = n->tcp_list; f; f = f->next)
        if (f->state == TCP_SYN_SENT && nat_addr_eq(&f->guest, ip)) {
            f->rto_at = emu_now_ns(n->emu); /* its timer sends the SYN; the try that nobody could hear doesn't count */
            if (f->retries)
                f->retries--;
            tcp_arm(f);
        }
}

/* RFC 5961 §7: a few a second are enough for an honest peer. */
static void tcp_challenge(struct tcp_flow *f)
{
    if (!f->nat->challenge_left)
        return;
    f->nat->challenge_left--;
    tcp_send_ack(f);
}

static void tcp_input_syn_sent(struct tcp_flow *f, struct pkt *p, struct tcp_segment *s)
{
    if ((s->flags & TCP_ACK) && s->ack != f->iss + 1) {
        tcp_refuse(f->nat, p, s);
        return;
    }
    if (s->flags & TCP_RST) {
        if (s->flags & TCP_ACK)
            tcp_reset_host(f);
        return;
    }
    if (!(s->flags & TCP_SYN))
        return;
    tcp_take_syn(f, s);
    if (!(s->flags & TCP_ACK)) { /* both opened at once */
        f->state = TCP_SYN_RCVD;
        f->need_ack = true;
        tcp_want_work(f);
        return;
    }
    tcp_opened(f, s);
    f->need_ack = true;
    tcp_want_work(f);
}

/* RFC 9293 §3.10.7.4, first to fourth; false: the segment is dropped. */
static bool tcp_acceptable(struct tcp_flow *f, struct pkt *p, struct tcp_segment *s)
{
    uint32_t length = (uint32_t)s->size + ((s->flags & TCP_FIN) ? 1 : 0), edge = f->rcv_adv;
    bool in_window;
    if (tcp_lt(edge, f->rcv_nxt))
        edge = f->rcv_nxt;
    if (length == 0)
        in_window = s->seq == f->rcv_nxt || (tcp_le(f->rcv_nxt, s->seq) && tcp_lt(s->seq, edge));
    else
        in_window = tcp_lt(f->rcv_nxt, s->seq + length) && tcp_lt(s->seq, edge);
    if (s->flags & TCP_RST) { /* RFC 5961 §3 */
        if (s->seq == f->rcv_nxt)
            tcp_reset_host(f);
        else if (tcp_le(f->rcv_nxt, s->seq) && tcp_lt(s->seq, edge))
            tcp_challenge(f);
        return false;
    }
    if (s->flags & TCP_SYN) {
        if (f->state == TCP_SYN_RCVD && s->seq == f->irs && !(s->flags & TCP_ACK)) { /* its SYN again: our answer was lost */
            f->need_ack = true;
            tcp_want_work(f);
        } else {
            tcp_challenge(f); /* RFC 5961 §4 */
        }
        return false;
    }
    if (!(s->flags & TCP_ACK))
        return false;
    if (f->state == TCP_SYN_RCVD) {
        if (s->ack != f->iss + 1) {
            tcp_refuse(f->nat, p, s);
            return false;
        }
        tcp_opened(f, s);
    }
    if (tcp_lt(f->snd_max, s->ack) || (s->ack - f->snd_una) >> 31) {
        /* RFC 5961 §5: acknowledges what was never sent, or is very old */
        if (tcp_lt(f->snd_max, s->ack) || f->snd_una - s->ack > f->max_wnd + 65536) {
            tcp_challenge(f);
            return false;
        }
    }
    if (!in_window) {
        if (length && tcp_le(s->seq + length, f->rcv_nxt) && s->size && f->sack_ok) {
            f->duplicate.from = s->seq;
            f->duplicate.to = s->seq + (uint32_t)s->size;
        }
        if (tcp_le(f->snd_una, s->ack) && f->state == TCP_OPEN && tcp_lt(s->seq, edge + 1))
            tcp_take_ack(f, s); /* a valid acknowledgement on a segment that finds our window closed */
        tcp_send_ack(f);
        tcp_want_work(f);
        return false;
    }
    return true;
}

EMU_PRIV void tcp_input(struct nat *n, struct pkt *p)
{
    struct tcp_segment s;
    struct tcp_flow *f;
    const uint8_t *t;
    uint16_t guest_port, remote_port;
    bool ordered;
    if (!tcp_parse(p, &s) || !pkt_l4_sum_ok(p)) {
        n->bad_packets++;
        return;
    }
    t = pkt_bytes(p, p->l4, 4);
    guest_port = ld16be(t);
    remote_port = ld16be(t + 2);
    if (!guest_port || !remote_port) {
        n->bad_packets++;
        return;
    }
    f = tcp_find(n, &p->src, guest_port, &p->dst, remote_port);
    if (f && f->state == TCP_TIME_WAIT && (s.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN && tcp_lt(f->rcv_nxt, s.seq)) {
        tcp_kill(f); /* RFC 9293 §3.6.1: a new connection on the old pair */
        f = NULL;
    }
    if (!f) {
        if ((s.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN)
            tcp_new_from_guest(n, p, &s, guest_port, remote_port);
        else
            tcp_refuse(n, p, &s);
        return;
    }
    f->heard_ns = emu_now_ns(n->emu);
    f->keepalives = 0;
    emu_poll_now(n->emu);
    if (f->state == TCP_CONNECTING) {
        if ((s.flags & TCP_RST) && (s.seq == f->rcv_nxt || s.seq == f->irs))
            tcp_kill(f);
        return;
    }
    if (f->state == TCP_SYN_SENT) {
        tcp_input_syn_sent(f, p, &s);
        return;
    }
    if (!(s.flags & TCP_SYN))
        s.window <<= f->snd_shift;
    if (!tcp_acceptable(f, p, &s))
        return;
    if (f->state != TCP_OPEN) { /* TIME_WAIT: only the guest's FIN again is of interest */
        f->need_ack = f->need_ack || (s.flags & TCP_FIN);
        tcp_want_work(f);
        return;
    }
    if (tcp_le(f->snd_una, s.ack))
        tcp_take_ack(f, &s);
    ordered = s.seq == f->rcv_nxt && !f->range_count;
    tcp_take_data(f, p, &s);
    if (f->state == TCP_DEAD)
        return;
    if (!ordered && f->need_ack) /* RFC 5681 §4.2: at once, so that the guest counts duplicates */
        tcp_send_ack(f);
    tcp_want_work(f);
}

/* ---- housekeeping ---- */

EMU_PRIV void tcp_tick(struct nat *n, int64_t host_now)
{
    struct tcp_flow *f;
    for (f = n->tcp_list; f; f = f->next)
        if (f->state == TCP_CONNECTING && f->connect_until_host_ns && host_now >= f->connect_until_host_ns) {
            f->connect_until_host_ns = 0;
            tcp_reset_guest(f);
        }
}

EMU_PRIV void tcp_close_guestfwd(struct nat *n, struct nat_guestfwd *g)
{
    struct tcp_flow *f;
    for (f = n->tcp_list; f; f = f->next)
        if (f->guestfwd == g) {
            tcp_kill(f);
            f->guestfwd = NULL;
        }
    if (g->chr) {
        g->chr->can_receive = NULL;
        g->chr->receive = NULL;
        g->chr->writable = NULL;
        g->chr->event = NULL;
    }
}

EMU_PRIV void tcp_destroy(struct nat *n)
{
    while (n->tcp_list)
        tcp_free(n->tcp_list);
    n->tcp_work = n->tcp_work_last = NULL;
}

static const char *tcp_state_name(const struct tcp_flow *f)
{
    switch (f->state) {
    case TCP_CONNECTING: return "SYN_SENT"; /* of the host's side */
    case TCP_SYN_SENT: return "SYN_SENT";
    case TCP_SYN_RCVD: return "SYN_RCVD";
    case TCP_TIME_WAIT: return "TIME_WAIT";
    case TCP_DEAD: return "CLOSED";
    default: break;
    }
    if (f->guest_fin)
        return !f->fin_sent ? "CLOSE_WAIT" : f->fin_first ? "CLOSING" : "LAST_ACK";
    return !f->fin_sent ? "ESTABLISHED" : f->fin_acked ? "FIN_WAIT_2" : "FIN_WAIT_1";
}

EMU_PRIV void tcp_print_info(struct nat *n, struct buf *out)
{
    struct tcp_flow *f;
    char text[32], source[64], dest[64];
    for (f = n->tcp_list; f; f = f->next) {
        const struct nat_addr *src = f->from_host ? &f->remote : &f->guest, *dst = f->from_host ? &f->guest : &f->remote;
        if (f->state == TCP_DEAD)
            continue;
        snprintf(text, sizeof text, "TCP[%s]", tcp_state_name(f));
        nat_format(src, source, sizeof source);
        nat_format(dst, dest, sizeof dest);
        buf_printf(out, "  %-19s %3d %15s %5u %15s %5u %5u %5u\n", text, (int)f->fd, source, f->from_host ? f->remote_port : f->guest_port, dest,
                   f->from_host ? f->guest_port : f->remote_port, f->state == TCP_OPEN ? f->tx_end - f->snd_una : 0, f->state == TCP_OPEN ? tcp_rx_size(f) : 0);
    }
}

EMU_PRIV bool tcp_check(struct nat *n)
{
    struct tcp_flow *f;
    size_t rings = 0;
    unsigned i;
    for (f = n->tcp_list; f; f = f->next) {
        uint32_t at = f->snd_una, pipe = 0, sacked = 0;
        if (f->state != TCP_OPEN)
            continue;
        if (!tcp_le(f->snd_una, f->snd_nxt) || !tcp_le(f->snd_nxt, f->snd_max) || f->tx_end + 1 - f->snd_una > f->tx.capacity + 1)
            return false;
        for (i = 0; i < f->chunk_count; i++) {
            const struct tcp_chunk *c = tcp_chunk(f, i);
            if (c->seq != at || !tcp_lt(c->seq, c->end))
                return false;
            at = c->end;
            if (c->flags & TCP_CHUNK_SACKED)
                sacked += c->end - c->seq;
            else if (!(c->flags & TCP_CHUNK_LOST))
                pipe += c->end - c->seq;
        }
        if ((f->chunk_count && at != f->snd_nxt) || pipe != f->pipe || sacked != f->sacked_bytes)
            return false;
        if (tcp_lt(f->rcv_nxt, f->rx_head))
            return false;
        at = f->rcv_nxt;
        for (i = 0; i < f->range_count; i++) {
            if (!tcp_lt(at, f->ranges[i].from) || !tcp_lt(f->ranges[i].from, f->ranges[i].to))
                return false;
            at = f->ranges[i].to;
        }
        if (at - f->rx_head > f->rx.capacity + 1)
            return false;
    }
    for (f = n->tcp_list; f; f = f->next)
        rings += f->counted ? (size_t)f->tx.capacity + f->rx.capacity : 0;
    return rings == n->tcp_ring_bytes;
}

#undef TCP_RING_FIRST
#undef TCP_RING_SMALL
#undef TCP_RINGS
#undef TCP_RING_MAX
#undef TCP_MAX_FLOWS
#undef TCP_SHIFT
#undef TCP_DIRECT
#undef TCP_ACK_FRAMES
#undef TCP_ACK_NS
#undef TCP_FLUSH
#undef TCP_PULL
#undef TCP_LONG_RTT_NS
#undef TCP_RANGES
#undef TCP_CHUNKS
#undef TCP_FIRST_SEGMENTS
#undef TCP_PROBES
#undef TCP_RTO_MIN
#undef TCP_RTO_FIRST
#undef TCP_RTO_MAX
#undef TCP_RETRIES
#undef TCP_SYN_TRIES
#undef TCP_TIME_WAIT_NS
#undef TCP_KEEPALIVE_NS
#undef TCP_KEEPALIVE_STEP_NS
#undef TCP_KEEPALIVE_TRIES
#undef TCP_CONNECT_HOST_NS
