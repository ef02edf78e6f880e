/* tests/net_filters.c - filter-dump and filter-impair between two plain ports.
 *
 * The capture's layout is the pcap format's (magic, version 2.4, link type 1); fates under impairment are checked by their statistics, by what
 * arrives byte for byte, and by running twice with one seed. Time is -icount time, moved by hand.
 */
#include "machine.h"
#include "net/net.h"
#include "test.h"

#define MS NS_PER_MS

struct end {
    struct net_port port;
    unsigned frames;
    size_t bytes;
    uint8_t last[2000];
    size_t last_size;
    uint32_t order[20000]; /* numbers of the frames that came */
    int64_t when_ns[20000];
};
struct line {
    struct emu emu;
    struct end a, b; /* a has the filters: frames from b are the guest's */
};

static void *fake_alloc(void *opaque, void *p, size_t size)
{
    (void)opaque;
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

static int end_receive(struct net_port *p, const struct net_frame *f)
{
    struct end *n = p->opaque;
    n->last_size = net_frame_copy(f, 0, n->last, sizeof n->last);
    if (n->frames < 20000) {
        n->order[n->frames] = f->size >= 18 ? ld32be(n->last + 14) : 0;
        n->when_ns[n->frames] = emu_now_ns(p->emu);
    }
    n->frames++;
    n->bytes += f->size;
    return 1;
}

static struct line *line_new(void)
{
    struct line *l = calloc(1, sizeof *l);
    l->emu.alloc_fn = fake_alloc;
    l->emu.config.icount = true;
    l->emu.wake_read = l->emu.wake_write = HOST_FD_NONE;
    clock_create(&l->emu);
    snprintf(l->a.port.name, sizeof l->a.port.name, "a");
    snprintf(l->b.port.name, sizeof l->b.port.name, "b");
    l->a.port.opaque = &l->a;
    l->b.port.opaque = &l->b;
    l->a.port.receive = l->b.port.receive = end_receive;
    net_port_register(&l->emu, &l->a.port);
    net_port_register(&l->emu, &l->b.port);
    net_port_connect(&l->a.port, &l->b.port, NULL);
    return l;
}

static void line_free(struct line *l)
{
    net_port_unregister(&l->emu, &l->a.port);
    net_port_unregister(&l->emu, &l->b.port);
    clock_destroy(&l->emu);
    free(l);
}

static int filter(struct line *l, bool dump, const char *text, struct err *err)
{
    struct options o;
    int r = options_parse(&o, &l->emu, "-object x", text, "qom-type", err);
    if (r)
        return r;
    options_get(&o, "qom-type");
    r = dump ? filter_dump_create(&l->emu, &o, err) : filter_impair_create(&l->emu, &o, err);
    if (!r)
        r = options_check_used(&o, err);
    options_free(&o);
    return r;
}

static void wait_ns(struct line *l, int64_t ns)
{
    int64_t end = emu_now_ns(&l->emu) + ns;
    while (clock_next_deadline(&l->emu) <= end) {
        clock_warp_to(&l->emu, clock_next_deadline(&l->emu));
        clock_run_timers(&l->emu);
    }
    clock_warp_to(&l->emu, end);
    clock_run_timers(&l->emu);
}

static int send_n(struct end *from, uint32_t number, size_t size)
{
    uint8_t bytes[2000];
    struct host_iov piece;
    struct net_frame f;
    memset(bytes, 0x11, sizeof bytes);
    st16be(bytes + 12, 0x88B5);
    st32be(bytes + 14, number);
    memset(&f, 0, sizeof f);
    piece.base = bytes;
    piece.size = size;
    f.pieces = &piece;
    f.count = 1;
    f.size = size;
    return net_send(&from->port, &f);
}

/* A super-frame of 3000 bytes TCP payload at 1000 a segment. */
static int send_super(struct end *from)
{
    static uint8_t f[54 + 3000];
    struct host_iov piece;
    struct net_frame g;
    memset(f, 0, sizeof f);
    st16be(f + 12, 0x0800);
    f[14] = 0x45;
    st16be(f + 16, 3040);
    f[22] = 64, f[23] = 6;
    f[46] = 0x50, f[47] = 0x10;
    memset(&g, 0, sizeof g);
    piece.base = f;
    piece.size = sizeof f;
    g.pieces = &piece;
    g.count = 1;
    g.size = sizeof f;
    g.gso = NET_GSO_TCP4;
    g.gso_size = 1000;
    g.header_bytes = 54;
    g.needs_csum = true;
    g.csum_start = 34;
    g.csum_offset = 16;
    return net_send(&from->port, &g);
}

static char capture[64];
static size_t load_capture(uint8_t *buf, size_t size)
{
    FILE *f = fopen(capture, "rb");
    size_t n = f ? fread(buf, 1, size, f) : 0;
    if (f)
        fclose(f);
    return n;
}

TEST(dump_writes_a_capture_of_plain_frames)
{
    struct line *l = line_new();
    struct err err;
    char text[128];
    static uint8_t c[20000];
    size_t n, at = 24, sizes[5] = { 60, 1054, 1054, 1054, 1400 }, i;
    snprintf(capture, sizeof capture, "/tmp/emu-dump-%ld.pcap", host_pid());
    snprintf(text, sizeof text, "filter-dump,id=d,netdev=a,file=%s", capture);
    l->b.port.takes_gso = l->b.port.takes_csum = true;
    CHECK_EQ(filter(l, true, text, &err), 0);
    send_n(&l->b, 1, 60);
    send_super(&l->a);
    CHECK_EQ(l->b.frames, 1); /* went on whole */
    CHECK_EQ(l->b.bytes, 3054);
    send_n(&l->a, 3, 1400);
    line_free(l);
    n = load_capture(c, sizeof c);
    remove(capture);
    CHECK_EQ(ld32le(c), 0xA1B2C3D4);
    CHECK_EQ(ld16le(c + 4), 2);
    CHECK_EQ(ld16le(c + 6), 4);
    CHECK_EQ(ld32le(c + 16), 65536);
    CHECK_EQ(ld32le(c + 20), 1);
    for (i = 0; i < 5; i++) {
        CHECK(at + 16 <= n);
        CHECK_EQ(ld32le(c + at + 8), sizes[i]);
        CHECK_EQ(ld32le(c + at + 12), sizes[i]);
        CHECK(ld32le(c + at + 4) < 1000000);
        if (i >= 1 && i <= 3) {
            const uint8_t *f = c + at + 16;
            CHECK_EQ(net_checksum(f + 14, 20, 0), 0);
            CHECK_EQ(net_checksum(f + 34, 1020, net_checksum_fold(net_checksum_add(f + 26, 8, 6 + 1020))), 0);
        }
        at += 16 + sizes[i];
    }
    CHECK_EQ(at, n);
}

TEST(dump_cuts_at_maxlen)
{
    struct line *l = line_new();
    struct err err;
    char text[128];
    static uint8_t c[2000];
    size_t n;
    snprintf(capture, sizeof capture, "/tmp/emu-dump-%ld.pcap", host_pid());
    snprintf(text, sizeof text, "filter-dump,id=d,netdev=a,maxlen=96,file=%s", capture);
    CHECK_EQ(filter(l, true, text, &err), 0);
    send_n(&l->a, 1, 1000);
    line_free(l);
    n = load_capture(c, sizeof c);
    remove(capture);
    CHECK_EQ(n, 24 + 16 + 96);
    CHECK_EQ(ld32le(c + 24 + 8), 96);
    CHECK_EQ(ld32le(c + 24 + 12), 1000);
}

TEST(filters_refuse_bad_options)
{
    static const struct { bool dump; const char *text, *says; } rows[] = {
        { true, "filter-dump,id=d,netdev=nobody,file=/tmp/x", "no network backend with id nobody" },
        { true, "filter-dump,id=d,netdev=a", "needs id=, netdev= and file=" },
        { true, "filter-dump,id=d,netdev=a,file=/nonexistent/x", "/nonexistent/x" },
        { true, "filter-dump,id=d,netdev=a,maxlen=0,file=/tmp/x", "maxlen" },
        { false, "filter-impair,id=d,netdev=a,loss=101", "loss=101 is not a percentage" },
        { false, "filter-impair,id=d,netdev=a,dup=x", "dup=x" },
        { false, "filter-impair,id=d,netdev=a,delay=10parsec", "delay=10parsec" },
        { false, "filter-impair,id=d,netdev=a,rate=0", "rate=0" },
        { false, "filter-impair,id=d,netdev=a,queue=up", "queue=up" },
        { false, "filter-impair,id=d,netdev=a,colour=red", "colour" },
    };
    struct line *l = line_new();
    struct err err;
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int bad = filter(l, rows[i].dump, rows[i].text, &err) == 0 || !strstr(err.text, rows[i].says);
        if (bad)
            printf("%s: %s\n", rows[i].text, err.text);
        CHECK(!bad);
    }
    line_free(l);
}

/* Number of frames of 10000 that come through; their order in *out. */
static unsigned run(const char *text, uint64_t *hash, struct end *copy)
{
    struct line *l = line_new();
    struct err err;
    unsigned i, n;
    if (filter(l, false, text, &err)) {
        printf("%s\n", err.text);
        line_free(l);
        return 0;
    }
    for (i = 0; i < 10000; i++) {
        send_n(&l->b, i, 100);
        wait_ns(l, 100000);
    }
    wait_ns(l, 10000 * MS);
    n = l->a.frames;
    *hash = 14695981039346656037u;
    for (i = 0; i < n && i < 20000; i++)
        *hash = (*hash ^ l->a.order[i]) * 1099511628211u;
    if (copy)
        *copy = l->a;
    line_free(l);
    return n;
}

TEST(impair_loss_is_as_asked_and_repeatable)
{
    uint64_t a, b, c, none;
    unsigned n = run("filter-impair,id=i,netdev=a,loss=20,seed=5", &a, NULL);
    CHECK(n > 7800 && n < 8200); /* 5 standard deviations are 200 */
    CHECK_EQ(run("filter-impair,id=i,netdev=a,loss=20,seed=5", &b, NULL), n);
    CHECK_EQ(a, b);
    run("filter-impair,id=i,netdev=a,loss=20%,seed=6", &c, NULL);
    CHECK(a != c);
    CHECK_EQ(run("filter-impair,id=i,netdev=a,loss=20,queue=rx", &none, NULL), 10000);
    n = run("filter-impair,id=i,netdev=a,loss=0.5", &none, NULL);
    CHECK(n > 9910 && n < 9990);
}

TEST(impair_duplicates)
{
    uint64_t h;
    unsigned n = run("filter-impair,id=i,netdev=a,dup=10", &h, NULL);
    CHECK(n > 10850 && n < 11150);
}

TEST(impair_reorders_and_loses_nothing)
{
    static struct end e;
    static uint8_t seen[10000];
    uint64_t h;
    unsigned i, late = 0;
    CHECK_EQ(run("filter-impair,id=i,netdev=a,reorder=10", &h, &e), 10000);
    memset(seen, 0, sizeof seen);
    for (i = 0; i < 10000; i++) {
        CHECK(e.order[i] < 10000 && !seen[e.order[i]]);
        seen[e.order[i]] = 1;
        if (i && e.order[i] < e.order[i - 1])
            late++;
    }
    CHECK(late > 500 && late < 1500);
}

TEST(impair_delays_and_jitter_keeps_order)
{
    static struct end e;
    uint64_t h;
    unsigned i, spread = 0;
    CHECK_EQ(run("filter-impair,id=i,netdev=a,delay=20", &h, &e), 10000);
    for (i = 0; i < 10000; i++)
        CHECK_EQ(e.when_ns[i], (int64_t)i * 100000 + 20 * MS);
    CHECK_EQ(run("filter-impair,id=i,netdev=a,delay=20ms,jitter=2500us", &h, &e), 10000);
    for (i = 0; i < 10000; i++) {
        int64_t d = e.when_ns[i] - (int64_t)i * 100000;
        CHECK(d >= 17500000 && d <= 22500000);
        CHECK_EQ(e.order[i], i);
        spread += d != 20 * MS;
    }
    CHECK(spread > 9000);
}

TEST(impair_corrupts_one_bit_behind_the_addresses)
{
    struct line *l = line_new();
    struct err err;
    unsigned i, k, flips = 0;
    CHECK_EQ(filter(l, false, "filter-impair,id=i,netdev=a,corrupt=100", &err), 0);
    for (i = 0; i < 200; i++) {
        unsigned bits = 0;
        uint8_t want[100];
        memset(want, 0x11, sizeof want);
        st16be(want + 12, 0x88B5);
        st32be(want + 14, i);
        send_n(&l->b, i, 100);
        for (k = 0; k < 100; k++)
            bits += popcount64((uint64_t)(l->a.last[k] ^ want[k]));
        CHECK_EQ(bits, 1);
        CHECK(!memcmp(l->a.last, want, 14));
        flips += bits;
    }
    CHECK_EQ(flips, 200);
    line_free(l);
}

TEST(impair_limits_the_rate_and_the_queue)
{
    struct line *l = line_new();
    struct err err;
    unsigned i;
    CHECK_EQ(filter(l, false, "filter-impair,id=i,netdev=a,rate=1M,limit=50", &err), 0);
    for (i = 0; i < 60; i++)
        send_n(&l->b, i, 1250); /* 10 ms each */
    wait_ns(l, 100 * MS);
    CHECK_EQ(l->a.frames, 10);
    wait_ns(l, 1000 * MS);
    CHECK_EQ(l->a.frames, 50);
    CHECK_EQ(l->a.port.drops_in, 10);
    line_free(l);
}

TEST(impair_treats_super_frames_as_packets)
{
    struct line *l = line_new();
    struct err err;
    l->b.port.takes_gso = l->b.port.takes_csum = true;
    CHECK_EQ(filter(l, false, "filter-impair,id=i,netdev=a,delay=1", &err), 0);
    send_super(&l->a);
    wait_ns(l, 2 * MS);
    CHECK_EQ(l->b.frames, 3);
    CHECK_EQ(net_checksum(l->b.last + 34, 1020, net_checksum_fold(net_checksum_add(l->b.last + 26, 8, 6 + 1020))), 0);
    line_free(l);
}

/* Looks on, or drops. */
struct onlooker {
    struct net_filter filter;
    unsigned seen[2];
    bool drops;
};

static int look(struct net_filter *f, enum net_direction d, const struct net_frame *frame)
{
    struct onlooker *o = (struct onlooker *)f;
    (void)frame;
    o->seen[d]++;
    return o->drops;
}

static void look_on(struct net_port *p, struct onlooker *o)
{
    memset(o, 0, sizeof *o);
    o->filter.frame = look;
    net_filter_attach(p, &o->filter);
}

/* What impair lets go, at once or later, goes on at the next filter of its port, and then at the receiver's. */
TEST(impair_hands_on_to_the_filters_behind_it)
{
    static const char *const kinds[] = { "filter-impair,id=i,netdev=a,dup=100", "filter-impair,id=i,netdev=a,dup=100,delay=10" };
    size_t i;
    for (i = 0; i < 2; i++) {
        struct line *l = line_new();
        struct onlooker before, behind, far;
        struct err err;
        look_on(&l->a.port, &before);
        CHECK_EQ(filter(l, false, kinds[i], &err), 0);
        look_on(&l->a.port, &behind);
        look_on(&l->b.port, &far);
        send_n(&l->a, 1, 100);
        send_n(&l->b, 2, 100);
        wait_ns(l, 20 * MS);
        CHECK(before.seen[NET_TO_PEER] == 1 && before.seen[NET_FROM_PEER] == 1);
        CHECK(behind.seen[NET_TO_PEER] == 2 && behind.seen[NET_FROM_PEER] == 2);
        CHECK(far.seen[NET_FROM_PEER] == 2 && far.seen[NET_TO_PEER] == 1);
        CHECK(l->a.frames == 2 && l->b.frames == 2);
        behind.drops = true;
        send_n(&l->a, 3, 100);
        wait_ns(l, 20 * MS);
        CHECK_EQ(behind.seen[NET_TO_PEER], 4);
        CHECK(far.seen[NET_FROM_PEER] == 2 && l->b.frames == 2);
        line_free(l);
    }
}

TEST(impair_twice_adds_the_delays)
{
    struct line *l = line_new();
    struct err err;
    CHECK_EQ(filter(l, false, "filter-impair,id=i,netdev=a,delay=10", &err), 0);
    CHECK_EQ(filter(l, false, "filter-impair,id=j,netdev=a,delay=30", &err), 0);
    send_n(&l->b, 1, 100);
    wait_ns(l, 100 * MS);
    CHECK_EQ(l->a.frames, 1);
    CHECK_EQ(l->a.when_ns[0], 40 * MS);
    line_free(l);
}

TEST_MAIN(TEST_CASE(dump_writes_a_capture_of_plain_frames), TEST_CASE(dump_cuts_at_maxlen), TEST_CASE(filters_refuse_bad_options), TEST_CASE(impair_loss_is_as_asked_and_repeatable),
          TEST_CASE(impair_duplicates), TEST_CASE(impair_reorders_and_loses_nothing), TEST_CASE(impair_delays_and_jitter_keeps_order),
          TEST_CASE(impair_corrupts_one_bit_behind_the_addresses), TEST_CASE(impair_limits_the_rate_and_the_queue), TEST_CASE(impair_treats_super_frames_as_packets),
          TEST_CASE(impair_hands_on_to_the_filters_behind_it), TEST_CASE(impair_twice_adds_the_delays))
