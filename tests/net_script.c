/* net_script.c - packets played to the user network on a manual clock, and what must come back; no guest.
 *
 * The far side of host connections is this process's own loopback sockets. Virtual time moves only by script_advance(), so each timeout is met
 * exactly. Expectations are the RFCs' and those of the failures of other stacks that a test's name and comment give.
 */
#include "net_script.h"

/* ---- TCP ---- */

/* RFC 9293 §3.8.6.1: a sender must probe a zero window, and the probe must not be dropped for want of window. */
TEST(tcp_probes_zero_window_and_resumes)
{
    struct script s;
    struct seg g;
    CHECK(connected(&s, 0));
    peer_says(&s, "hello", 5);
    script_advance(&s, 199 * MS);
    CHECK(!take_tcp(&s, &g));
    script_advance(&s, 2 * MS);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.seq, s.gack);
    CHECK_EQ(g.len, 1);
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK, 500, NULL, 0, NULL, 0);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.seq, s.gack);
    CHECK_EQ(g.len, 5);
    CHECK(!memcmp(g.data, "hello", 5));
    script_end(&s);
}

/* RFC 9293 §3.10.7.3: a refused connection is told by RST that acknowledges the SYN. */
TEST(tcp_refused_connection_is_reset)
{
    struct script s;
    struct seg g;
    int fd;
    CHECK(script_start(&s, ""));
    fd = listen_any(&s.hport);
    close(fd);
    s.gport = 40000;
    send_tcp(&s, GATE, s.hport, 77, 0, SYN, 1000, syn_options, 12, NULL, 0);
    script_poll(&s, 50);
    script_poll(&s, 0);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags, RST | ACK);
    CHECK_EQ(g.ack, 78);
    CHECK_EQ(g.seq, 0);
    script_end(&s);
}

TEST(tcp_delivers_data_both_ways_and_half_closes)
{
    struct script s;
    struct seg g;
    char buf[64];
    CHECK(connected(&s, 65535));
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK | PSH, 65535, NULL, 0, "question", 8);
    send_tcp(&s, GATE, s.hport, s.gseq + 8, s.gack, ACK | FIN, 65535, NULL, 0, NULL, 0);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 9); /* one acknowledgement for the burst */
    CHECK(!take_tcp(&s, &g));
    CHECK_EQ(read(s.peer, buf, sizeof buf), 8);
    CHECK_EQ(read(s.peer, buf, sizeof buf), 0); /* half-close passed on */
    peer_says(&s, "answer", 6);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.len, 6);
    send_tcp(&s, GATE, s.hport, s.gseq + 9, s.gack + 6, ACK, 65535, NULL, 0, NULL, 0);
    close(s.peer);
    s.peer = -1;
    script_poll(&s, 100);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags & FIN, FIN);
    CHECK_EQ(g.seq, s.gack + 6);
    send_tcp(&s, GATE, s.hport, s.gseq + 9, s.gack + 7, ACK, 65535, NULL, 0, NULL, 0);
    script_work(&s);
    script_work(&s);
    CHECK_EQ(s.n->tcp_count, 0); /* LAST_ACK ends it; the guest has the TIME_WAIT */
    script_end(&s);
}

/* RFC 9293 §3.6: a host that has closed its side goes on receiving, for as long as the guest likes; behind our FIN nothing is sent, and nothing probed. */
TEST(tcp_is_silent_behind_its_fin)
{
    struct script s;
    struct seg g;
    char buf[16];
    CHECK(connected(&s, 65535));
    peer_says(&s, "bye", 3);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.len, 3);
    shutdown(s.peer, SHUT_WR);
    script_poll(&s, 100);
    if (!(g.flags & FIN))
        CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags & FIN, FIN);
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack + 4, ACK, 65535, NULL, 0, NULL, 0);
    script_work(&s);
    script_advance(&s, 3600 * SECOND);
    while (take_tcp(&s, &g))
        printf("sequence number FIN + %u, %u bytes, flags %x\n", g.seq - (s.gack + 3), (unsigned)g.len, g.flags), *test_failed = 1;
    CHECK(!*test_failed);
    CHECK_EQ(s.n->tcp_count, 1);
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack + 4, ACK | PSH, 65535, NULL, 0, "at last", 7);
    script_work(&s);
    CHECK_EQ(read(s.peer, buf, sizeof buf), 7);
    CHECK(!memcmp(buf, "at last", 7));
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 7);
    CHECK_EQ(g.seq, s.gack + 4);
    CHECK(tcp_check(s.n));
    script_end(&s);
}

/* RFC 9293 §3.8.6.3, RFC 1122 §4.2.3.2: one acknowledgement for at least every second full-sized segment (here: super-frame), and within 500 ms
 * (here: 0.5). Small segments, and those with a FIN, are answered at once. */
TEST(tcp_acknowledges_every_second_super_frame)
{
    static uint8_t bulk[10000];
    static char got[65536];
    struct script s;
    struct seg g;
#ifdef EMU_TORTURE
    SKIP("tiny buffers never offer such windows");
#endif
    CHECK(connected(&s, 65535));
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK, 65535, NULL, 0, bulk, sizeof bulk);
    script_work(&s);
    CHECK(take_tcp(&s, &g)); /* for the window, which SYN-ACK could not give in full */
    CHECK_EQ(recv(s.peer, got, 10000, MSG_WAITALL), 10000);
    s.gseq += 10000;
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK, 65535, NULL, 0, bulk, sizeof bulk);
    script_work(&s);
    CHECK(!take_tcp(&s, &g));
    send_tcp(&s, GATE, s.hport, s.gseq + 10000, s.gack, ACK, 65535, NULL, 0, bulk, sizeof bulk);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 20000);
    send_tcp(&s, GATE, s.hport, s.gseq + 20000, s.gack, ACK, 65535, NULL, 0, bulk, sizeof bulk);
    script_advance(&s, 400 * MS / 1000);
    CHECK(!take_tcp(&s, &g));
    script_advance(&s, 200 * MS / 1000);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 30000);
    send_tcp(&s, GATE, s.hport, s.gseq + 30000, s.gack, ACK, 65535, NULL, 0, bulk, sizeof bulk);
    send_tcp(&s, GATE, s.hport, s.gseq + 40000, s.gack, ACK, 65535, NULL, 0, bulk, 100);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 40100);
    send_tcp(&s, GATE, s.hport, s.gseq + 40100, s.gack, ACK | FIN, 65535, NULL, 0, bulk, sizeof bulk);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 50101);
    CHECK_EQ(recv(s.peer, got, 50100, MSG_WAITALL), 50100);
    script_advance(&s, 10 * MS);
    CHECK(!take_tcp(&s, &g));
    script_end(&s);
}

/* RFC 5681 §3.2 and RFC 2018 §4: out-of-order data gives an immediate duplicate ACK whose first block names it. */
TEST(tcp_acknowledges_out_of_order_data_with_sack)
{
    struct script s;
    struct seg g;
    char buf[16];
    CHECK(connected(&s, 65535));
    send_tcp(&s, GATE, s.hport, s.gseq + 4, s.gack, ACK, 65535, NULL, 0, "efgh", 4);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq);
    CHECK_EQ(g.sacks, 1);
    CHECK_EQ(g.from[0], s.gseq + 4);
    CHECK_EQ(g.to[0], s.gseq + 8);
    send_tcp(&s, GATE, s.hport, s.gseq + 12, s.gack, ACK, 65535, NULL, 0, "mnop", 4);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.sacks, 2);
    CHECK_EQ(g.from[0], s.gseq + 12);
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK, 65535, NULL, 0, "abcd", 4);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 8);
    send_tcp(&s, GATE, s.hport, s.gseq + 8, s.gack, ACK, 65535, NULL, 0, "ijkl", 4);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq + 16);
    CHECK_EQ(g.sacks, 0);
    script_work(&s);
    CHECK_EQ(read(s.peer, buf, 16), 16);
    CHECK(!memcmp(buf, "abcdefghijklmnop", 16));
    script_end(&s);
}

/* RFC 6298 §5: the timer doubles; RFC 5681: after a loss seen by SACK the segment goes again at once. */
/* Tests that count segments of a burst: the first ring of EMU_TORTURE holds less than three. */
#ifdef EMU_TORTURE
#define NEEDS_WHOLE_RINGS() SKIP("EMU_TORTURE: the ring is smaller than the burst")
#else
#define NEEDS_WHOLE_RINGS() ((void)0)
#endif

TEST(tcp_retransmits_by_sack_and_by_timeout)
{
    static uint8_t data[7300];
    struct script s;
    struct seg g;
    uint8_t sack[12] = { 1, 1, 5, 10 };
    int i;
    NEEDS_WHOLE_RINGS();
    CHECK(connected(&s, 65535));
    peer_says(&s, data, sizeof data);
    for (i = 0; i < 5; i++) {
        CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.seq, s.gack + 1460u * (unsigned)i);
        CHECK_EQ(g.len, 1460);
    }
    st32be(sack + 4, s.gack + 1460);
    st32be(sack + 8, s.gack + 7300); /* the first is missing */
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK, 65535, sack, 12, NULL, 0);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.seq, s.gack);
    CHECK_EQ(g.len, 1460);
    CHECK(!take_tcp(&s, &g));
    CHECK(tcp_check(s.n));
    script_advance(&s, 9 * MS);
    CHECK(!take_tcp(&s, &g));
    for (i = 0; i < 4; i++) { /* lost again: probes after 10, 20, 40, 80 ms (RFC 8985 §7, repeated) */
        script_advance(&s, i ? (10 << i) * (int64_t)MS : 2 * MS);
        CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.seq, s.gack);
        CHECK_EQ(g.len, 1460);
        CHECK(!take_tcp(&s, &g));
    }
    script_advance(&s, 190 * MS);
    CHECK(!take_tcp(&s, &g));
    script_advance(&s, 15 * MS); /* the timeout */
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.seq, s.gack);
    script_advance(&s, 390 * MS);
    CHECK(!take_tcp(&s, &g));
    script_advance(&s, 15 * MS); /* twice as long */
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.seq, s.gack);
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack + 7300, ACK, 65535, NULL, 0, NULL, 0);
    script_advance(&s, 10 * SECOND);
    CHECK(!take_tcp(&s, &g));
    script_end(&s);
}

/* RFC 5681 §3.2, RFC 6582 §3.2: the lost segment goes again at the third duplicate, whatever the window that is halved then says. */
TEST(tcp_fast_retransmits_without_sack_from_a_full_window)
{
    static uint8_t data[20 * 1460];
    struct script s;
    struct seg g;
    uint32_t first;
    int i;
    NEEDS_WHOLE_RINGS();
    CHECK(connected_with(&s, "", 65535, false));
    peer_says(&s, data, 10 * 1460);
    for (i = 0; i < 10; i++) {
        CHECK(take_tcp(&s, &g));
        send_tcp(&s, GATE, s.hport, s.gseq, g.seq + 1460, ACK, 65535, NULL, 0, NULL, 0);
        script_work(&s);
    }
    first = g.seq + 1460;
    peer_says(&s, data, sizeof data);
    for (i = 0; i < 5; i++)
        script_poll(&s, 0);
    for (i = 0; take_tcp(&s, &g); i++)
        CHECK_EQ(g.seq, first + 1460u * (unsigned)i);
    CHECK(i >= 12); /* more than the window after the loss */
    for (i = 0; i < 3; i++) {
        CHECK(!take_tcp(&s, &g));
        send_tcp(&s, GATE, s.hport, s.gseq, first, ACK, 65535, NULL, 0, NULL, 0);
        script_work(&s);
    }
    CHECK(take_tcp(&s, &g));
    while (g.seq != first && take_tcp(&s, &g)) {} /* duplicates let new segments out before it (RFC 3042) */
    CHECK_EQ(g.seq, first);
    CHECK_EQ(g.len, 1460);
    CHECK(tcp_check(s.n));
    script_end(&s);
}

/* A server that answers and closes without reading on (an HTTP 413): the guest must have the answer before it has the reset. */
TEST(tcp_answer_before_a_reset_is_delivered)
{
    struct script s;
    struct seg g;
    bool answered = false, reset = false;
    int i;
    CHECK(connected(&s, 65535));
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK | PSH, 65535, NULL, 0, "request", 7);
    script_work(&s);
    while (take_tcp(&s, &g)) {}
    CHECK_EQ(write(s.peer, "413", 3), 3);
    close(s.peer); /* with unread input: the host's kernel resets */
    s.peer = -1;
    send_tcp(&s, GATE, s.hport, s.gseq + 7, s.gack, ACK | PSH, 65535, NULL, 0, "more", 4);
    script_work(&s);
    for (i = 0; i < 10 && !reset; i++) {
        script_poll(&s, 50);
        while (take_tcp(&s, &g)) {
            if (g.len == 3) {
                CHECK(!memcmp(g.data, "413", 3));
                CHECK_EQ(g.seq, s.gack);
                answered = true;
            }
            if (g.flags & RST) {
                CHECK(answered);
                reset = true;
            }
        }
    }
    CHECK(answered);
    CHECK(reset);
    CHECK_EQ(s.n->tcp_count, 0);
    script_end(&s);
}

/* Receivers join the segments of a flow only while their IP identifications count up by one (Linux: inet_gro_receive()), over the
 * boundaries of super-frames too. */
TEST(tcp_identifies_packets_without_gaps)
{
    static uint8_t data[4 * 1460];
    struct script s;
    struct seg g;
    unsigned round, i, id = 0, seen = 0;
    NEEDS_WHOLE_RINGS();
    CHECK(connected(&s, 65535));
    for (round = 0; round < 3; round++) {
        static const unsigned sizes[3] = { 2 * 1460, 4 * 1460, 1460 + 1 };
        peer_says(&s, data, sizes[round]);
        for (i = 0; i < (sizes[round] + 1459) / 1460; i++) {
            CHECK(take_tcp(&s, &g));
            CHECK(g.len > 0);
            if (seen++)
                CHECK_EQ(g.id, (id + 1) & 0xFFFF);
            id = g.id;
        }
        CHECK(!take_tcp(&s, &g));
    }
    CHECK_EQ(seen, 8);
    script_end(&s);
}

/* RFC 6582: a guest without SACK gets its segment after three duplicates. */
TEST(tcp_fast_retransmits_without_sack)
{
    static uint8_t data[5 * 1460];
    struct script s;
    struct seg g;
    int i;
    NEEDS_WHOLE_RINGS();
    CHECK(connected_with(&s, "", 65535, false));
    peer_says(&s, data, sizeof data);
    for (i = 0; i < 5; i++)
        CHECK(take_tcp(&s, &g));
    for (i = 0; i < 3; i++) {
        send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK, 65535, NULL, 0, NULL, 0);
        script_work(&s);
        CHECK_EQ(take_tcp(&s, &g), i == 2);
    }
    CHECK_EQ(g.seq, s.gack);
    CHECK_EQ(g.len, 1460);
    CHECK(tcp_check(s.n));
    script_end(&s);
}

/* RFC 5961 §3, §4, §5: blind RST, SYN and ACK get a challenge ACK and change nothing. */
TEST(tcp_challenges_blind_reset_syn_and_ack)
{
    struct script s;
    struct seg g;
    CHECK(connected(&s, 65535));
    send_tcp(&s, GATE, s.hport, s.gseq + 100, s.gack, RST, 0, NULL, 0, NULL, 0);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags, ACK);
    CHECK_EQ(g.ack, s.gseq);
    send_tcp(&s, GATE, s.hport, s.gseq + 100, 0, SYN, 1000, syn_options, 12, NULL, 0);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags, ACK);
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack + 100000, ACK, 1000, NULL, 0, NULL, 0);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags, ACK);
    CHECK_EQ(s.n->tcp_count, 1);
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack, RST, 0, NULL, 0, NULL, 0);
    script_work(&s);
    CHECK_EQ(s.n->tcp_count, 0);
    {
        char c;
        CHECK(read(s.peer, &c, 1) < 0); /* passed on as a reset, not as an end */
        CHECK_EQ(errno, ECONNRESET);
    }
    script_end(&s);
}

/* ACK to the guest only what we hold: beyond the window nothing is acknowledged. */
TEST(tcp_accepts_nothing_beyond_its_window)
{
    static uint8_t data[1400];
    struct script s;
    struct seg g;
    uint32_t far_away;
    CHECK(connected(&s, 65535));
    far_away = s.gseq + 300 * 1024;
    send_tcp(&s, GATE, s.hport, far_away, s.gack, ACK, 65535, NULL, 0, data, sizeof data);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.ack, s.gseq);
    CHECK_EQ(g.sacks, 0);
    CHECK(tcp_check(s.n));
    script_end(&s);
}

/* Backpressure: while the guest's NIC is full nothing is lost, and kick() resumes. */
TEST(tcp_keeps_data_while_the_nic_is_full)
{
    static uint8_t data[20000];
    struct script s;
    struct seg g;
    size_t got = 0;
    NEEDS_WHOLE_RINGS();
    CHECK(connected(&s, 65535));
    s.full = true;
    peer_says(&s, data, sizeof data);
    CHECK(!take_tcp(&s, &g));
    s.full = false;
    net_kick_peer(&s.port);
    script_work(&s);
    while (take_tcp(&s, &g)) {
        CHECK_EQ(g.seq, s.gack + (uint32_t)got);
        got += g.len;
    }
    CHECK_EQ(got, 14600); /* the first window: RFC 6928 */
    send_tcp(&s, GATE, s.hport, s.gseq, s.gack + 14600, ACK, 65535, NULL, 0, NULL, 0);
    script_work(&s);
    while (take_tcp(&s, &g))
        got += g.len;
    CHECK_EQ(got, 20000);
    script_end(&s);
}

/* A reset is sent once; if the NIC is full then, it waits like other frames. */
TEST(tcp_reset_waits_for_room_in_the_nic)
{
    struct linger abort = { 1, 0 };
    struct script s;
    struct seg g;
    CHECK(connected(&s, 65535));
    s.full = true;
    setsockopt(s.peer, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    close(s.peer);
    s.peer = -1;
    script_poll(&s, 100);
    CHECK(!take_tcp(&s, &g));
    s.full = false;
    net_kick_peer(&s.port);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags & RST, RST);
    CHECK_EQ(g.seq, s.gack);
    script_work(&s);
    CHECK_EQ(s.n->tcp_count, 0);
    script_end(&s);
}

/* A guest that never answers a window probe is dead: that data of its peer's was lost must not look like an orderly end to either. */
TEST(tcp_that_gives_up_a_closed_window_resets_both_ends)
{
    struct script s;
    struct seg g;
    char c;
    unsigned flags = 0;
    CHECK(connected(&s, 0));
    peer_says(&s, "hello", 5);
    script_advance(&s, 900 * SECOND);
    while (take_tcp(&s, &g))
        flags = g.flags;
    CHECK_EQ(flags & RST, RST);
    CHECK_EQ(s.n->tcp_count, 0);
    CHECK_EQ(recv(s.peer, &c, 1, MSG_DONTWAIT), -1);
    CHECK_EQ(errno, ECONNRESET);
    script_end(&s);
}

/* Two flows, one with much to send and one with little: what the first leaves no room for comes next. */
TEST(tcp_flows_take_turns_at_a_full_nic)
{
    static uint8_t data[250000];
    struct script s;
    struct seg g;
    int other, round, i;
    uint32_t ack;
    bool met = false;
    NEEDS_WHOLE_RINGS();
    CHECK(connected(&s, 65535));
    for (round = 0; round < 6; round++) { /* the first one's congestion window grows */
        peer_says(&s, data, 200000);
        for (i = 0; i < 20; i++) {
            while (take_tcp(&s, &g))
                if (g.len)
                    s.gack = g.seq + (uint32_t)g.len;
            send_tcp(&s, GATE, s.hport, s.gseq, s.gack, ACK, 65535, NULL, 0, NULL, 0);
            script_poll(&s, 2);
        }
    }
    s.gport = 40001;
    send_tcp(&s, GATE, s.hport, 1000, 0, SYN, 65535, syn_options, 12, NULL, 0);
    for (i = 0; i < 20 && !s.count; i++)
        script_poll(&s, 50);
    CHECK(take_tcp(&s, &g));
    ack = g.seq + 1;
    send_tcp(&s, GATE, s.hport, 1001, ack, ACK, 65535, NULL, 0, NULL, 0);
    script_work(&s);
    other = accept(s.listener, NULL, NULL);
    CHECK(other >= 0);
    s.full = true;
    peer_says(&s, data, 250000);
    CHECK_EQ(write(other, "little", 6), 6);
    for (i = 0; i < 5; i++)
        script_poll(&s, 20);
    for (round = 0; round < 2; round++) {
        s.full = false;
        s.room = 1;
        net_kick_peer(&s.port);
        script_work(&s);
        while (take_tcp(&s, &g))
            met = met || ld16be(last_frame + 36) == 40001;
        CHECK(s.full);
    }
    CHECK(met);
    close(other);
    script_end(&s);
}

/* 1000 flows at once. A guest that opens so many must not make us promise gigabytes: 256 MiB at the usual size, then 16 KiB each way. */
TEST(tcp_rings_of_many_flows_are_small)
{
    struct rlimit limit;
    struct script s;
    unsigned i;
    NEEDS_WHOLE_RINGS();
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 1300) {
        limit.rlim_cur = EMU_MIN(limit.rlim_max, (rlim_t)1300);
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < 1300)
        SKIP("needs 1300 descriptors");
    CHECK(script_start(&s, ""));
    s.listener = listen_any(&s.hport);
    for (i = 0; i < 1000; i++) {
        s.gport = (uint16_t)(10000 + i);
        send_tcp(&s, GATE, s.hport, 1000, 0, SYN, 65535, syn_options, 12, NULL, 0);
    }
    CHECK_EQ(s.n->tcp_count, 1000);
    CHECK_EQ(s.n->tcp_ring_bytes, 512 * UINT64_C(524288) + 488 * UINT64_C(32768));
    CHECK(tcp_check(s.n));
    for (i = 0; i < 1000; i++) {
        s.gport = (uint16_t)(10000 + i);
        send_tcp(&s, GATE, s.hport, 1001, 0, RST, 0, NULL, 0, NULL, 0);
    }
    script_work(&s);
    CHECK_EQ(s.n->tcp_count, 0);
    CHECK_EQ(s.n->tcp_ring_bytes, 0);
    script_end(&s);
}

/* RFC 9293 §3.8.4: keepalive after two hours, and the end when nobody answers. */
TEST(tcp_keepalive_finds_a_dead_guest)
{
    struct script s;
    struct seg g;
    int probes = 0;
    CHECK(connected(&s, 65535));
    script_advance(&s, 7199 * SECOND);
    CHECK(!take_tcp(&s, &g));
    script_advance(&s, 2 * SECOND);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.seq, s.gack - 1);
    CHECK_EQ(g.len, 0);
    script_advance(&s, 800 * SECOND);
    while (take_tcp(&s, &g))
        probes += !(g.flags & RST);
    CHECK_EQ(probes, 8);
    CHECK_EQ(s.n->tcp_count, 0);
    script_end(&s);
}

/* CVE-2026-9539 of libslirp: an urgent pointer beyond the data. It is data like any other here. */
TEST(tcp_urgent_pointer_is_harmless)
{
    struct script s;
    uint8_t t[24], f[64];
    char c[8];
    CHECK(connected(&s, 65535));
    memset(t, 0, sizeof t);
    st16be(t, s.gport);
    st16be(t + 2, s.hport);
    st32be(t + 4, s.gseq);
    st32be(t + 8, s.gack);
    t[12] = 0x50;
    t[13] = ACK | 32;
    st16be(t + 14, 1000);
    st16be(t + 18, 0xFFFF);
    memcpy(t + 20, "urge", 4);
    l4_sum(t, 24, 6, GUEST, GATE, 16);
    give(&s, f, ip_frame(f, 6, GUEST, GATE, t, 24, 1, 0, 64));
    script_work(&s);
    CHECK_EQ(read(s.peer, c, 8), 4);
    script_end(&s);
}

/* CVE-2014-3640: ports of zero. */
TEST(zero_ports_are_dropped)
{
    struct script s;
    CHECK(script_start(&s, ""));
    s.gport = 0;
    send_tcp(&s, GATE, 80, 1, 0, SYN, 1000, NULL, 0, NULL, 0);
    s.gport = 5;
    send_tcp(&s, GATE, 0, 1, 0, SYN, 1000, NULL, 0, NULL, 0);
    send_udp(&s, GUEST, 0, GATE, 9, "x", 1);
    send_udp(&s, GUEST, 9, GATE, 0, "x", 1);
    CHECK_EQ(s.n->tcp_count, 0);
    CHECK_EQ(s.n->udp_count, 0);
    CHECK_EQ(s.n->bad_packets, 4);
    script_end(&s);
}

/* Bad option lengths: CVE-2017-11434's kind, in TCP. */
TEST(tcp_option_overrun_ends_the_list)
{
    struct script s;
    static const uint8_t bad[8] = { 3, 3, 14, 2, 40, 1, 1, 1 };
    CHECK(script_start(&s, ""));
    s.gport = 1;
    send_tcp(&s, GATE, 9, 1, 0, SYN, 1000, bad, 8, NULL, 0);
    script_poll(&s, 10);
    script_end(&s);
}

/* ---- hostfwd ---- */

TEST(hostfwd_reset_when_guest_refuses_and_when_silent)
{
    struct script s;
    struct seg g;
    const uint8_t *f;
    char c;
    CHECK(script_start(&s, "hostfwd=tcp:127.0.0.1:0-:22"));
    s.hport = s.n->hostfwds->listen.port;
    CHECK(s.hport != 0);
    s.peer = client(s.hport);
    CHECK(s.peer >= 0);
    script_poll(&s, 100);
    f = take(&s);
    CHECK(f && ld16be(f + 12) == 0x0806 && ld32be(f + 38) == GUEST); /* who has 10.0.2.15 */
    arp_reply(&s);
    script_work(&s);
    CHECK(take_tcp(&s, &g));
    CHECK_EQ(g.flags, SYN);
    CHECK_EQ(g.mss, 1460);
    s.gport = 22;
    send_tcp(&s, GATE, ld16be(last_frame + 34), 0, g.seq + 1, RST | ACK, 0, NULL, 0, NULL, 0);
    CHECK_EQ(recv(s.peer, &c, 1, 0), -1);
    CHECK_EQ(errno, ECONNRESET);
    close(s.peer);
    s.peer = client(s.hport);
    script_poll(&s, 100);
    script_advance(&s, 10 * SECOND); /* 1 + 2 + 4 s without a word */
    CHECK_EQ(recv(s.peer, &c, 1, MSG_DONTWAIT), -1);
    CHECK_EQ(errno, ECONNRESET);
    CHECK_EQ(s.n->tcp_count, 0);
    script_end(&s);
}

TEST(hostfwd_errors_are_one_clear_line)
{
    static const char *const bad[][2] = {
        { "hostfwd=tcp::70000-:22", "host port 70000 is not between 0 and 65535" },
        { "hostfwd=tcp::22-:0", "guest port 0 is not between 1 and 65535" },
        { "hostfwd=sctp::22-:22", "unknown protocol" },
        { "hostfwd=tcp::22", "wanted [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport" },
        { "hostfwd=tcp:nowhere:22-:22", "\"nowhere\" is not an IP address of the host's" },
        { "hostfwd=tcp::0-1.2.3.4:22", "is not in this network" },
        { "hostfwd=unix:/etc/passwd-:22", "exists and is no socket" },
        { "ipv4=off,ipv6=off", "both ipv4 and ipv6 are off" },
        { "net=10.0.2.0/33", "net=10.0.2.0/33" },
        { "host=10.0.3.1", "host= must lie in net=" },
        { "dhcpstart=10.0.3.1", "dhcpstart= must lie in net=" },
        { "host=10.0.2.3", "host= and dns= must differ" },
        { "dns=bogus", "dns=bogus is not an IPv4 address" },
        { "smb=/tmp", "not supported yet" },
        { "tftp=/nonexistent", "is not a folder" },
        { "mtu=70000", "mtu" },
        { "restrict=maybe", "restrict" },
        { "guestfwd=tcp:10.0.2.4:0-cmd:cat", "wanted [tcp]:[server]:port-chardev" },
        { "guestfwd=tcp:10.9.2.4:80-cmd:cat", "must lie in the guest's network" },
        { "hostfwd=,flavour=1", "" },
        { "flavour=1", "flavour" },
    };
    size_t i;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct script s;
        bool started = script_start(&s, bad[i][0]);
        if (started || !strstr(s.err.text, bad[i][1]))
            printf("%s: %s\n", bad[i][0], started ? "taken" : s.err.text);
        CHECK(!started && strstr(s.err.text, bad[i][1]));
        CHECK(!strchr(s.err.text, '\n'));
        script_end(&s);
    }
}

TEST(hostfwd_port_in_use_is_named)
{
    struct script s;
    char text[80];
    uint16_t port;
    int fd = listen_any(&port);
    snprintf(text, sizeof text, "hostfwd=tcp:127.0.0.1:%u-:22", port);
    CHECK(!script_start(&s, text));
    CHECK(strstr(s.err.text, "is in use by another program"));
    close(fd);
    script_end(&s);
}

TEST(hostfwd_is_added_listed_and_removed)
{
    struct script s;
    struct buf out;
    struct err err;
    char rule[64];
    CHECK(script_start(&s, ""));
    CHECK_EQ(nat_hostfwd_add(s.e, NULL, "tcp:127.0.0.1:0-:80", &err), 0);
    CHECK_EQ(nat_hostfwd_add(s.e, "n0", "udp:127.0.0.1:0-:53", &err), 0);
    CHECK(nat_hostfwd_add(s.e, "n9", "udp:127.0.0.1:0-:53", &err) != 0);
    buf_init(&out, s.e);
    nat_print_info(s.e, &out);
    buf_add(&out, "", 1);
    CHECK(strstr((char *)out.data, "TCP[HOST_FORWARD]") && strstr((char *)out.data, "UDP[HOST_FORWARD]") && strstr((char *)out.data, "10.0.2.15    80"));
    buf_free(&out);
    snprintf(rule, sizeof rule, "tcp:127.0.0.1:%u", s.n->hostfwds->listen.port);
    CHECK_EQ(nat_hostfwd_remove(s.e, NULL, rule, &err), 0);
    CHECK(nat_hostfwd_remove(s.e, NULL, rule, &err) != 0);
    script_end(&s);
}

TEST(hostfwd_unix_replaces_a_stale_socket)
{
    struct script s;
    struct sockaddr_un a;
    char rule[160];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/emu-net-script-%ld", (long)getpid());
    unlink(a.sun_path);
    CHECK(!bind(fd, (struct sockaddr *)&a, sizeof a));
    close(fd); /* stale */
    snprintf(rule, sizeof rule, "hostfwd=unix:%s-:22", a.sun_path);
    CHECK(script_start(&s, rule));
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(!connect(fd, (struct sockaddr *)&a, sizeof a));
    script_poll(&s, 100);
    CHECK_EQ(s.n->tcp_count, 1);
    close(fd);
    script_end(&s);
    CHECK(access(a.sun_path, F_OK) != 0);
}

/* guestfwd=...-cmd: serves one connection after the other (libslirp's died after the first). */
TEST(guestfwd_command_serves_again_and_again)
{
    struct script s;
    struct seg g;
    int round, i;
    CHECK(script_start(&s, "restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat"));
    for (round = 0; round < 3; round++) {
        uint32_t seq = 5000, ack;
        s.gport = (uint16_t)(41000 + round);
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq, 0, SYN, 60000, syn_options, 12, NULL, 0);
        script_work(&s);
        CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.flags, SYN | ACK);
        ack = g.seq + 1;
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq + 1, ack, ACK | FIN, 60000, NULL, 0, "echo", 4);
        for (i = 0; i < 40; i++)
            script_poll(&s, 25);
        CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.ack, seq + 6);
        if (!g.len)
            CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.len, 4);
        CHECK(!memcmp(g.data, "echo", 4));
        if (!(g.flags & FIN))
            CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.flags & FIN, FIN);
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq + 6, ack + 5, ACK, 60000, NULL, 0, NULL, 0);
        script_work(&s);
        script_work(&s);
    }
    CHECK_EQ(s.n->tcp_count, 0);
    script_end(&s);
}

/* guestfwd=...-chardev: what came while no guest was connected stops the line; the next connection sets it going again. What the line says after the
 * guest's FIN still reaches the guest. */
TEST(guestfwd_chardev_goes_on_after_waiting)
{
    struct script s;
    struct seg g;
    struct sockaddr_un a;
    char option[160], text[16];
    uint32_t next = 0;
    bool syn_ack, fin;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd, i, round;
    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/emu-guestfwd-%d", (int)getpid());
    CHECK_EQ(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    CHECK_EQ(listen(listener, 1), 0);
    snprintf(option, sizeof option, "guestfwd=tcp:10.0.2.100:7-unix:%s", a.sun_path);
    CHECK(script_start(&s, option));
    fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    for (round = 0; round < 2; round++) {
        uint32_t seq = 5000, ack;
        CHECK_EQ(write(fd, "early", 5), 5);
        for (i = 0; i < 5; i++)
            script_poll(&s, 5);
        s.gport = (uint16_t)(41000 + round);
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq, 0, SYN, 60000, syn_options, 12, NULL, 0);
        script_work(&s);
        CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.flags, SYN | ACK);
        ack = g.seq + 1;
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq + 1, ack, ACK, 60000, NULL, 0, "ask", 3);
        for (i = 0; i < 10; i++)
            script_poll(&s, 25);
        CHECK_EQ(read(fd, text, sizeof text), 3);
        CHECK(take_tcp(&s, &g));
        if (!g.len)
            CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.len, 5);
        CHECK(!memcmp(g.data, "early", 5));
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq + 4, ack + 5, ACK | FIN, 60000, NULL, 0, NULL, 0);
        for (i = 0; i < 5; i++)
            script_poll(&s, 5);
        while (take_tcp(&s, &g))
            CHECK(!(g.flags & (FIN | RST)));
        /* RFC 9293 §3.6: who sent its FIN goes on receiving until the other side closes too. A line never says that it has; silence does. */
        CHECK_EQ(write(fd, "late", 4), 4);
        for (i = 0; i < 5; i++)
            script_poll(&s, 5);
        CHECK(take_tcp(&s, &g));
        CHECK_EQ(g.len, 4);
        CHECK(!memcmp(g.data, "late", 4));
        CHECK(!(g.flags & (FIN | RST)));
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq + 5, ack + 9, ACK, 60000, NULL, 0, NULL, 0);
        script_work(&s);
        if (round == 1) { /* the next guest does not wait for that */
            CHECK_EQ(s.n->tcp_count, 1);
            s.gport = 41002;
            send_tcp(&s, UINT32_C(0x0A000264), 7, seq, 0, SYN, 60000, syn_options, 12, NULL, 0);
            script_work(&s);
            for (i = 0, syn_ack = false, fin = false; take_tcp(&s, &g); i++) {
                syn_ack |= g.flags == (SYN | ACK);
                fin |= (g.flags & FIN) != 0;
                CHECK(!(g.flags & RST));
                next = g.flags == (SYN | ACK) ? g.seq + 1 : next;
            }
            CHECK(syn_ack && fin);
            send_tcp(&s, UINT32_C(0x0A000264), 7, seq + 1, next, ACK, 60000, NULL, 0, "new", 3);
            for (i = 0; i < 10; i++)
                script_poll(&s, 25);
            CHECK_EQ(read(fd, text, sizeof text), 3);
            s.gport = 41001;
        } else {
            script_advance(&s, 1500 * (int64_t)MS);
            CHECK(!take_tcp(&s, &g));
            script_advance(&s, 600 * (int64_t)MS);
            CHECK(take_tcp(&s, &g));
            CHECK_EQ(g.flags & FIN, FIN);
            while (take_tcp(&s, &g)) /* sent again, since nobody acknowledges it in this time */
                CHECK_EQ(g.flags & FIN, FIN);
        }
        send_tcp(&s, UINT32_C(0x0A000264), 7, seq + 5, ack + 10, ACK, 60000, NULL, 0, NULL, 0);
        script_work(&s);
        script_work(&s);
    }
    CHECK_EQ(s.n->tcp_count, 1); /* the one that came last */
    script_end(&s);
    close(fd);
    close(listener);
    unlink(a.sun_path);
}

static void nobodys(void *opaque, const uint8_t *buf, size_t size)
{
    (void)opaque;
    (void)buf;
    (void)size;
}

/* A rule that wants another's character device is refused, and the other keeps it. */
TEST(guestfwd_leaves_a_chardev_in_use_alone)
{
    struct script s;
    struct chr *c;
    struct options o;
    struct net_port *port = NULL;
    CHECK(script_start(&s, ""));
    c = chr_open(s.e, "line", "null", &s.err);
    CHECK(c);
    c->in_use = true;
    c->receive = nobodys;
    CHECK_EQ(options_parse(&o, s.e, "netdev_add", "user,guestfwd=tcp:10.0.2.100:7-line", "type", &s.err), 0);
    CHECK(netdev_user_create(s.e, "n1", &o, &port, &s.err) < 0);
    options_free(&o);
    CHECK(strstr(s.err.text, "line is in use"));
    CHECK(c->in_use);
    CHECK(c->receive == nobodys);
    script_end(&s);
}

/* A line that a rule opened for itself ends with its network (netdev_del), which then can be made again. */
TEST(guestfwd_closes_the_line_that_it_opened)
{
    struct script s;
    char text[80], c;
    int fd, round;
    uint16_t port;
    int listener = listen_any(&port);
    CHECK(script_start(&s, ""));
    snprintf(text, sizeof text, "user,guestfwd=tcp:10.0.2.100:7-tcp:127.0.0.1:%u", port);
    for (round = 0; round < 2; round++) {
        struct options o;
        struct net_port *other = NULL;
        CHECK_EQ(options_parse(&o, s.e, "netdev_add", text, "type", &s.err), 0);
        CHECK_EQ(netdev_user_create(s.e, "n1", &o, &other, &s.err), 0);
        options_free(&o);
        fd = accept(listener, NULL, NULL);
        CHECK(fd >= 0);
        other->destroy(other);
        CHECK_EQ(read(fd, &c, 1), 0);
        close(fd);
    }
    close(listener);
    script_end(&s);
}

/* ---- UDP, ICMP, fragments ---- */

/* Endpoint-independent mapping: two peers see one source; answers come from the peer that sent them (libslirp kept only the last). */
TEST(udp_maps_endpoints_and_names_the_right_sender)
{
    struct script s;
    uint16_t pa, pb;
    int a = udp_any(&pa), b = udp_any(&pb);
    struct sockaddr_in from_a, from_b;
    socklen_t n = sizeof from_a;
    char buf[100];
    const uint8_t *f;
    CHECK(script_start(&s, ""));
    arp_reply(&s);
    send_udp(&s, GUEST, 5000, GATE, pa, "one", 3);
    send_udp(&s, GUEST, 5000, GATE, pb, "", 0); /* zero length */
    CHECK_EQ(recvfrom(a, buf, sizeof buf, 0, (struct sockaddr *)&from_a, &n), 3);
    n = sizeof from_b;
    CHECK_EQ(recvfrom(b, buf, sizeof buf, 0, (struct sockaddr *)&from_b, &n), 0);
    CHECK_EQ(from_a.sin_port, from_b.sin_port);
    sendto(a, "A", 1, 0, (struct sockaddr *)&from_a, sizeof from_a);
    script_poll(&s, 100);
    f = take(&s);
    CHECK(f && f[23] == 17 && good_sums(f, last_size));
    CHECK_EQ(ld32be(f + 26), GATE);
    CHECK_EQ(ld16be(f + 34), pa);
    CHECK_EQ(ld16be(f + 36), 5000);
    CHECK_EQ(last_size, 60); /* padded */
    sendto(b, "", 0, 0, (struct sockaddr *)&from_b, sizeof from_b);
    script_poll(&s, 100);
    f = take(&s);
    CHECK(f && ld16be(f + 34) == pb && ld16be(f + 38) == 8);
    close(a);
    close(b);
    script_end(&s);
}

TEST(udp_port_unreachable_comes_back_with_the_right_quote)
{
    struct script s;
    uint16_t port;
    const uint8_t *f;
    int fd = udp_any(&port), i;
    close(fd);
    CHECK(script_start(&s, ""));
    arp_reply(&s);
    send_udp(&s, GUEST, 5000, GATE, port, "hello", 5);
    for (i = 0; i < 10 && !s.count; i++)
        script_poll(&s, 50);
    f = take(&s);
    if (!f) { /* a host that does not report (no IP_RECVERR) */
        printf("skip udp_port_unreachable_comes_back_with_the_right_quote: the host reports no errors\n");
        script_end(&s);
        return;
    }
    CHECK(f[23] == 1 && good_sums(f, last_size));
    CHECK_EQ(f[34], 3);
    CHECK_EQ(f[35], 3);
    CHECK_EQ(ld32be(f + 42 + 12), GUEST);
    CHECK_EQ(ld32be(f + 42 + 16), GATE);
    CHECK_EQ(f[42 + 9], 17);
    CHECK_EQ(ld16be(f + 62), 5000);
    CHECK_EQ(ld16be(f + 64), port);
    CHECK_EQ(ld16be(f + 66), 13);
    script_end(&s);
}

/* A datagram that a NIC hands over in pieces, behind one that nobody listened for: the error about that one is told first, and this one arrives unharmed. */
TEST(udp_datagram_behind_an_error_is_unharmed)
{
    static uint8_t f[600], u[600], got[600];
    struct script s;
    struct host_iov v[2];
    struct net_frame frame;
    uint16_t open_port, closed;
    size_t size, i;
    int fd = udp_any(&open_port), gone = udp_any(&closed);
    close(gone);
    CHECK(script_start(&s, ""));
    arp_reply(&s);
    send_udp(&s, GUEST, 5000, GATE, closed, "x", 1);
    st16be(u, 5000);
    st16be(u + 2, open_port);
    st16be(u + 4, 508);
    for (i = 0; i < 500; i++)
        u[8 + i] = (uint8_t)(i * 7 + 1);
    l4_sum(u, 508, 17, GUEST, GATE, 6);
    size = ip_frame(f, 17, GUEST, GATE, u, 508, 1, 0, 64);
    memset(&frame, 0, sizeof frame);
    v[0].base = f;
    v[0].size = 42;
    v[1].base = f + 42;
    v[1].size = size - 42;
    frame.pieces = v;
    frame.count = 2;
    frame.size = size;
    net_send(&s.port, &frame);
    CHECK_EQ(recv(fd, got, sizeof got, MSG_DONTWAIT), 500);
    CHECK(!memcmp(got, u + 8, 500));
    close(fd);
    script_end(&s);
}

TEST(udp_datagrams_of_60000_bytes_pass_both_ways_in_fragments)
{
    static uint8_t data[60000], u[60008], f[2000], got[60010];
    struct script s;
    struct sockaddr_in from;
    socklen_t n = sizeof from;
    uint16_t port;
    int fd = udp_any(&port);
    size_t at, i, total = 0, order;
    const uint8_t *p;
    for (i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    CHECK(script_start(&s, ""));
    arp_reply(&s);
    st16be(u, 5000);
    st16be(u + 2, port);
    st16be(u + 4, 60008);
    memcpy(u + 8, data, sizeof data);
    l4_sum(u, 60008, 17, GUEST, GATE, 6);
    for (order = 0; order < 2; order++) /* odd ones first */
        for (i = 0, at = 0; at < 60008; at += 1480, i++)
            if ((i & 1) != order)
                give(&s, f, ip_frame(f, 17, GUEST, GATE, u + at, EMU_MIN(60008 - at, (size_t)1480), 77, (uint16_t)(at / 8 | (at + 1480 < 60008 ? 0x2000 : 0)), 64));
    CHECK_EQ(recvfrom(fd, got, sizeof got, 0, (struct sockaddr *)&from, &n), 60000);
    CHECK(!memcmp(got, data, 60000));
    sendto(fd, data, sizeof data, 0, (struct sockaddr *)&from, sizeof from);
    script_poll(&s, 200);
    memset(got, 0, sizeof got);
    while ((p = take(&s))) {
        size_t offset = (size_t)(ld16be(p + 20) & 0x1FFF) * 8, size = ld16be(p + 16) - 20u;
        CHECK(last_size <= 1514 && offset + size <= sizeof got);
        memcpy(got + offset, p + 34, size);
        total += size;
    }
    CHECK_EQ(total, 60008);
    CHECK(!memcmp(got + 8, data, 60000));
    close(fd);
    script_end(&s);
}

/* What a datagram is refused for whole, it is refused for in fragments: a broadcast stays in the guest's net (RFC 1812 §5.3.5), and a TTL that is
 * used up is answered (RFC 792). */
TEST(ip_fragments_are_judged_like_whole_datagrams)
{
    static const uint32_t to[] = { UINT32_MAX, UINT32_C(0x0A0002FF), UINT32_C(0xEF010203) };
    struct script s;
    static uint8_t u[1488], f[2000];
    const uint8_t *p;
    unsigned i, exceeded = 0;
    CHECK(script_start(&s, ""));
    memset(u, 0, sizeof u);
    st16be(u, 5000);
    st16be(u + 2, 9);
    st16be(u + 4, sizeof u);
    for (i = 0; i < 3; i++) {
        give(&s, f, ip_frame(f, 17, GUEST, to[i], u, 1480, (uint16_t)(1 + i), 0x2000, 64));
        give(&s, f, ip_frame(f, 17, GUEST, to[i], u + 1480, 8, (uint16_t)(1 + i), 185, 64));
        CHECK_EQ(s.n->udp_count, 0);
    }
    CHECK(!take(&s));
    give(&s, f, ip_frame(f, 17, GUEST, UINT32_C(0xC0000201), u, 1480, 9, 0x2000, 1));
    give(&s, f, ip_frame(f, 17, GUEST, UINT32_C(0xC0000201), u + 1480, 8, 9, 185, 1));
    CHECK_EQ(s.n->udp_count, 0);
    arp_reply(&s);
    while ((p = take(&s)))
        exceeded += ld16be(p + 12) == 0x0800 && p[23] == 1 && p[34] == 11 && p[35] == 0 && good_sums(p, last_size);
    CHECK_EQ(exceeded, 1);
    script_end(&s);
}

/* CVE-2018-11806, 2019-14378, 2019-15890, 2020-1983: lengths and offsets that lie, overlaps, floods. */
TEST(ip_fragments_overlapping_or_too_large_are_dropped)
{
    struct script s;
    static uint8_t d[1480], f[2000];
    unsigned i, used = 0;
    CHECK(script_start(&s, ""));
    give(&s, f, ip_frame(f, 17, GUEST, GATE, d, 1480, 1, 0x2000, 64));
    give(&s, f, ip_frame(f, 17, GUEST, GATE, d, 1480, 1, 0x2000 | 100, 64)); /* overlaps */
    for (i = 0; i < IP_REASSEMBLIES; i++)
        used += s.n->reassembly[i].used;
    CHECK_EQ(used, 0);
    give(&s, f, ip_frame(f, 17, GUEST, GATE, d, 1480, 2, 0x1FFF, 64));          /* would end beyond 64 KiB */
    give(&s, f, ip_frame(f, 17, GUEST, GATE, d, 13, 3, 0x2000, 64));            /* not a multiple of 8 */
    give(&s, f, ip_frame(f, 17, GUEST, GATE, d, 0, 4, 0x2000, 64));             /* empty */
    for (i = 0; i < IP_REASSEMBLIES; i++)
        used += s.n->reassembly[i].used;
    CHECK_EQ(used, 0);
    for (i = 0; i < 5000; i++) /* flood: bounded */
        give(&s, f, ip_frame(f, 17, GUEST, GATE, d, 1480, (uint16_t)(100 + i), 0x2000, 64));
    for (i = 0; i < IP_REASSEMBLIES; i++)
        used += s.n->reassembly[i].used;
    CHECK_EQ(used, IP_REASSEMBLIES);
    s.first = (s.first + s.count) % FRAMES, s.count = 0;
    arp_reply(&s);
    script_advance(&s, 31 * SECOND);
    for (i = 0, used = 0; i < IP_REASSEMBLIES; i++)
        used += s.n->reassembly[i].used;
    CHECK_EQ(used, 0);
    {
        const uint8_t *p;
        unsigned exceeded = 0;
        while ((p = take(&s)))
            exceeded += ld16be(p + 12) == 0x0800 && p[23] == 1 && p[34] == 11 && p[35] == 1 && good_sums(p, last_size);
        CHECK_EQ(exceeded, IP_REASSEMBLIES);
    }
    script_end(&s);
}

/* CVE-2026-115449: the reply has the length of the question, also with bytes behind the datagram. */
TEST(icmp_echo_reply_has_exactly_the_question)
{
    struct script s;
    uint8_t m[8 + 11], f[100];
    const uint8_t *p;
    CHECK(script_start(&s, ""));
    memset(m, 0x5A, sizeof m);
    m[0] = 8;
    m[1] = 0;
    st16be(m + 2, 0);
    st16be(m + 2, net_checksum(m, sizeof m, 0));
    memset(f, 0xEE, sizeof f);
    ip_frame(f, 1, GUEST, GATE, m, sizeof m, 1, 0, 64);
    give(&s, f, 90); /* trailing bytes */
    p = take(&s);
    CHECK(p && p[34] == 0 && good_sums(p, last_size));
    CHECK_EQ(ld16be(p + 16), 20 + sizeof m);
    CHECK(!memcmp(p + 38, m + 4, sizeof m - 4));
    CHECK(!take(&s));
    script_end(&s);
}

/* CVE-2026-120830: an error quotes by the real header length; traceroute gets its time exceeded. */
TEST(icmp_time_exceeded_quotes_the_packet)
{
    struct script s;
    uint8_t u[9], f[100];
    const uint8_t *p;
    CHECK(script_start(&s, ""));
    memset(u, 0, sizeof u);
    st16be(u, 5000);
    st16be(u + 2, 33434);
    st16be(u + 4, 9);
    give(&s, f, ip_frame(f, 17, GUEST, UINT32_C(0x08080808), u, 9, 1, 0, 1));
    p = take(&s);
    CHECK(p && p[34] == 11 && p[35] == 0 && good_sums(p, last_size));
    CHECK_EQ(ld32be(p + 26), GATE);
    CHECK(!memcmp(p + 42, f + 14, 29));
    script_end(&s);
}

/* CVE-2020-29129/29130, 2021-3592..3595, 2020-10756: every cut of every kind of packet, in a buffer of just that size. */
TEST(short_packets_of_every_kind_are_dropped)
{
    static const uint8_t protos[] = { 1, 6, 17, 58, 99 };
    struct script s;
    uint8_t f[200] = { 0 }, l4[100];
    size_t i, k, size;
    CHECK(script_start(&s, "tftp=/tmp"));
    for (k = 0; k < sizeof protos; k++)
        for (i = 0; i < 80; i++) {
            memset(l4, (int)i, sizeof l4);
            st16be(l4 + 2, k == 2 ? (uint16_t)(i & 1 ? 67 : i & 2 ? 69 : 53) : 80);
            size = ip_frame(f, protos[k], GUEST, i & 4 ? DNS : GATE, l4, i, 1, 0, 64);
            give(&s, f, size);
            for (size = 0; size < 34 + i; size += 3)
                give(&s, f, size); /* cut */
            f[14] = (uint8_t)(0x40 | (i & 15));
            give(&s, f, 34 + i);
            f[12] = 0x86;
            f[13] = 0xDD;
            f[14] = 0x60;
            f[20] = protos[k];
            st16be(f + 18, (uint16_t)i);
            give(&s, f, 54 + i);
            f[13] = 6;
            f[12] = 8;
            give(&s, f, 14 + i);
            while (take(&s)) {
            }
            script_work(&s);
        }
    CHECK(tcp_check(s.n));
    script_end(&s);
}

/* ---- ARP, DHCP, DNS, TFTP ---- */

TEST(arp_answers_for_host_dns_and_guestfwd_only)
{
    struct script s;
    uint8_t f[42];
    const uint8_t *p;
    uint32_t ask[] = { GATE, DNS, UINT32_C(0x0A000264), GUEST, UINT32_C(0x0A000209) };
    int i;
    CHECK(script_start(&s, "guestfwd=tcp:10.0.2.100:7-cmd:cat"));
    for (i = 0; i < 5; i++) {
        memset(f, 0xFF, 6);
        memcpy(f + 6, guest_mac, 6);
        st16be(f + 12, 0x0806);
        st16be(f + 14, 1);
        st16be(f + 16, 0x0800);
        f[18] = 6;
        f[19] = 4;
        st16be(f + 20, 1);
        memcpy(f + 22, guest_mac, 6);
        st32be(f + 28, GUEST);
        memset(f + 32, 0, 6);
        st32be(f + 38, ask[i]);
        give(&s, f, sizeof f);
        p = take(&s);
        CHECK_EQ(p != NULL, i < 3);
        if (p) {
            CHECK_EQ(last_size, 60);
            CHECK_EQ(ld16be(p + 20), 2);
            CHECK_EQ(ld32be(p + 28), ask[i]);
            CHECK(p[22] == 0x52 && p[23] == 0x55 && ld32be(p + 24) == GATE);
        }
    }
    script_end(&s);
}

TEST(dhcp_leases_the_documented_addresses_and_options)
{
    struct script s;
    const uint8_t *f, *o;
    CHECK(script_start(&s, "hostname=box,domainname=lab.test,dnssearch=lab.test,dnssearch=b.test,bootfile=pxe.0,tftp-server-name=10.0.2.2,mtu=9000"));
    f = dhcp_ask(&s, 1, 0, 0, "\x3d\x03" "abc", 5); /* DISCOVER with client id */
    CHECK(f && good_sums(f, last_size));
    CHECK_EQ(ld16be(f + 36), 68);
    CHECK_EQ(ld32be(f + 42 + 16), GUEST);
    CHECK(!memcmp(f, guest_mac, 6));
    CHECK((o = dhcp_opt(f, 53)) && o[1] == 2);
    CHECK((o = dhcp_opt(f, 1)) && ld32be(o + 1) == UINT32_C(0xFFFFFF00));
    CHECK((o = dhcp_opt(f, 3)) && ld32be(o + 1) == GATE);
    CHECK((o = dhcp_opt(f, 6)) && ld32be(o + 1) == DNS);
    CHECK((o = dhcp_opt(f, 12)) && !memcmp(o + 1, "box", 3));
    CHECK((o = dhcp_opt(f, 15)) && !memcmp(o + 1, "lab.test", 8));
    CHECK((o = dhcp_opt(f, 26)) && ld16be(o + 1) == 9000);
    CHECK((o = dhcp_opt(f, 61)) && !memcmp(o, "\x03" "abc", 4));
    CHECK((o = dhcp_opt(f, 66)) && (o = dhcp_opt(f, 67)) && !memcmp(o + 1, "pxe.0", 5));
    CHECK((o = dhcp_opt(f, 119)) && o[0] == 18 && !memcmp(o + 1, "\x03lab\x04test\x00\x01" "b\x04test", 18));
    CHECK((o = dhcp_opt(f, 51)) && ld32be(o + 1) == 86400);
    CHECK(dhcp_opt(f, 58) && dhcp_opt(f, 59));
    f = dhcp_ask(&s, 3, GUEST, 0, "\x36\x04\x0A\x00\x02\x02", 6);
    CHECK(f && (o = dhcp_opt(f, 53)) && o[1] == 5 && ld32be(f + 42 + 16) == GUEST);
    f = dhcp_ask(&s, 3, UINT32_C(0xC0A80105), 0, "", 0); /* foreign address */
    CHECK(f && (o = dhcp_opt(f, 53)) && o[1] == 6);
    CHECK_EQ(ld32be(f + 30), UINT32_MAX);
    f = dhcp_ask(&s, 8, 0, GUEST, "", 0); /* INFORM */
    CHECK(f && (o = dhcp_opt(f, 53)) && o[1] == 5 && !ld32be(f + 42 + 16) && !dhcp_opt(f, 51));
    f = dhcp_ask(&s, 0, 0, 0, "", 0); /* BOOTP */
    CHECK(f && ld32be(f + 42 + 16) == GUEST && !dhcp_opt(f, 53));
    script_end(&s);
}

TEST(dhcp_grants_an_unknown_free_address)
{
    struct script s;
    const uint8_t *f, *o;
    CHECK(script_start(&s, "restrict=on"));
    f = dhcp_ask(&s, 3, UINT32_C(0x0A000242), 0, "", 0);
    CHECK(f && (o = dhcp_opt(f, 53)) && o[1] == 5 && ld32be(f + 42 + 16) == UINT32_C(0x0A000242));
    CHECK(!dhcp_opt(f, 3) && !dhcp_opt(f, 6)); /* restrict: no router, no DNS */
    script_end(&s);
}

/* A rule without a guest's address means the first lease, which need not be dhcpstart=. */
TEST(hostfwd_goes_to_the_address_that_was_leased)
{
    struct script s;
    struct nat_addr a;
    CHECK(script_start(&s, ""));
    a = nat_first_guest(s.n);
    CHECK_EQ(nat_get_v4(&a), GUEST);
    CHECK(dhcp_ask(&s, 3, UINT32_C(0x0A000242), 0, "", 0));
    a = nat_first_guest(s.n);
    CHECK_EQ(nat_get_v4(&a), UINT32_C(0x0A000242));
    script_end(&s);
}

/* In a /28 the usual place of the first guest, .15, is the broadcast address. */
TEST(net_of_16_addresses_has_one_for_the_guest)
{
    struct script s;
    struct nat_addr a;
    CHECK(script_start(&s, "net=192.168.76.0/28"));
    a = nat_first_guest(s.n);
    CHECK_EQ(nat_get_v4(&a), UINT32_C(0xC0A84C04));
    script_end(&s);
}

/* CVE-2017-11434: an option whose length leads out of the packet. */
TEST(dhcp_option_overrun_ends_the_list)
{
    struct script s;
    CHECK(script_start(&s, ""));
    dhcp_ask(&s, 1, 0, 0, "\x3d\xff" "a", 3);
    dhcp_ask(&s, 1, 0, 0, "\x35", 1);
    script_end(&s);
}

/* All resolvers are tried, the answer is checked against number, question and server, and comes back under the guest's number. */
TEST(dns_asks_every_resolver_and_checks_answers)
{
    struct script s;
    struct sockaddr_in from;
    socklen_t n = sizeof from;
    uint16_t dead, port, other;
    uint8_t q[100];
    int gone = udp_any(&dead), fd = udp_any(&port), evil = udp_any(&other), i;
    const uint8_t *f;
    ssize_t got;
    close(gone);
    CHECK(script_start(&s, ""));
    arp_reply(&s);
    s.n->resolvers_fixed = true;
    s.n->resolver_count = 2;
    memset(s.n->resolvers, 0, sizeof s.n->resolvers);
    for (i = 0; i < 2; i++) {
        s.n->resolvers[i].family = HOST_INET;
        st32be(s.n->resolvers[i].ip, UINT32_C(0x7F000001));
        s.n->resolvers[i].port = i ? port : dead;
    }
    send_udp(&s, GUEST, 6000, DNS, 53, question, sizeof question);
    for (i = 0; i < 40; i++) { /* the first is not there */
        script_poll(&s, 50);
        got = recvfrom(fd, q, sizeof q, MSG_DONTWAIT, (struct sockaddr *)&from, &n);
        if (got > 0)
            break;
    }
    CHECK_EQ(got, sizeof question);
    CHECK(!memcmp(q + 2, question + 2, sizeof question - 2));
    q[2] |= 0x80;
    sendto(evil, q, (size_t)got, 0, (struct sockaddr *)&from, sizeof from); /* another server */
    script_poll(&s, 50);
    CHECK(!take(&s));
    q[0] ^= 1;
    sendto(fd, q, (size_t)got, 0, (struct sockaddr *)&from, sizeof from); /* another number */
    script_poll(&s, 50);
    CHECK(!take(&s));
    q[0] ^= 1;
    sendto(fd, q, (size_t)got, 0, (struct sockaddr *)&from, sizeof from);
    script_poll(&s, 50);
    f = take(&s);
    CHECK(f && good_sums(f, last_size));
    CHECK_EQ(ld32be(f + 26), DNS);
    CHECK_EQ(ld16be(f + 34), 53);
    CHECK_EQ(ld16be(f + 36), 6000);
    CHECK_EQ(ld16be(f + 42), 0x1234);
    close(fd);
    close(evil);
    script_end(&s);
}

TEST(dns_without_a_resolver_says_server_failure)
{
    struct script s;
    const uint8_t *f;
    CHECK(script_start(&s, ""));
    arp_reply(&s);
    s.n->resolvers_fixed = true;
    s.n->resolver_count = 0;
    send_udp(&s, GUEST, 6000, DNS, 53, question, sizeof question);
    f = take(&s);
    CHECK(f && ld16be(f + 42) == 0x1234 && (f[44] & 0x80) && (f[45] & 15) == 2);
    script_end(&s);
}

/* CVE-2020-7211 and RFC 2347-2349, 7440. */
TEST(tftp_serves_the_folder_and_nothing_else)
{
    struct script s;
    char dir[64], path[128], option[128];
    const uint8_t *f;
    static uint8_t data[3000];
    uint8_t ack[4] = { 0, 4, 0, 0 };
    uint16_t tid;
    size_t n, i;
    int fd;
    static const char *const bad[] = { "../secret", "a/../../secret", "/../secret", "link", "sub/../../x", "..", "", "." };
    snprintf(dir, sizeof dir, "/tmp/emu-tftp-%ld", (long)getpid());
    mkdir(dir, 0755);
    snprintf(path, sizeof path, "%s/file", dir);
    for (i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 13);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0 && write(fd, data, sizeof data) == sizeof data);
    close(fd);
    snprintf(path, sizeof path, "%s/link", dir);
    unlink(path);
    CHECK(!symlink("/etc/passwd", path));
    snprintf(option, sizeof option, "tftp=%s,ipv6=off", dir);
    CHECK(script_start(&s, option));
    arp_reply(&s);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t m[100] = { 0, 1 };
        n = 2 + (size_t)snprintf((char *)m + 2, 90, "%s%coctet", bad[i], 0) + 1;
        send_udp(&s, GUEST, 7000, GATE, 69, m, n);
        f = take(&s);
        CHECK(f && ld16be(f + 42) == 5);
    }
    send_udp(&s, GUEST, 7000, GATE, 69, "\0\2file\0octet\0", 13); /* put */
    f = take(&s);
    CHECK(f && ld16be(f + 42) == 5 && ld16be(f + 44) == 2);
    send_udp(&s, GUEST, 7001, GATE, 69, "\0\1file\0octet\0blksize\0" "1024\0tsize\0" "0\0windowsize\0" "2\0", 47);
    f = take(&s);
    CHECK(f && ld16be(f + 42) == 6);
    CHECK(!memcmp(f + 44, "blksize\0" "1024\0tsize\0" "3000\0windowsize\0" "2", 37));
    tid = ld16be(f + 34);
    send_udp(&s, GUEST, 7001, GATE, tid, ack, 4);
    f = take(&s);
    CHECK(f && ld16be(f + 42) == 3 && ld16be(f + 44) == 1 && !memcmp(f + 46, data, 1024));
    f = take(&s);
    CHECK(f && ld16be(f + 44) == 2 && !memcmp(f + 46, data + 1024, 1024));
    CHECK(!take(&s));
    script_advance(&s, 1100 * (int64_t)MS); /* again after the timeout */
    f = take(&s);
    CHECK(f && ld16be(f + 44) == 1);
    take(&s);
    ack[3] = 2;
    send_udp(&s, GUEST, 7001, GATE, tid, ack, 4);
    f = take(&s);
    CHECK(f && ld16be(f + 44) == 3 && ld16be(f + 38) == 8 + 4 + 952);
    ack[3] = 3;
    send_udp(&s, GUEST, 7001, GATE, tid, ack, 4);
    CHECK_EQ(s.n->tftp_count, 0);
    unlink(path);
    snprintf(path, sizeof path, "%s/file", dir);
    unlink(path);
    rmdir(dir);
    script_end(&s);
}

/* CVE-2026-95508: reply builders with a small block size. */
TEST(tftp_small_block_sizes_are_safe)
{
    struct script s;
    uint8_t m[64] = { 0, 1 };
    int v;
    CHECK(script_start(&s, "tftp=/etc"));
    arp_reply(&s);
    for (v = 0; v < 20; v++) {
        size_t n = 2 + (size_t)snprintf((char *)m + 2, 60, "hostname%coctet%cblksize%c%d", 0, 0, 0, v) + 1;
        send_udp(&s, GUEST, (uint16_t)(8000 + v), GATE, 69, m, n);
        while (take(&s)) {
        }
    }
    CHECK(s.n->tftp_count <= 16);
    script_end(&s);
}

/* CVE-2026-120831: bursts while the NIC is full stay bounded and in order. */
TEST(full_nic_queue_is_bounded_and_ordered)
{
    struct script s;
    unsigned i, n = 0;
    const uint8_t *f;
    uint8_t m[10], p[100];
    uint16_t last = 0;
    CHECK(script_start(&s, ""));
    s.full = true;
    for (i = 1; i < 3000; i++) {
        memset(m, 0, sizeof m);
        m[0] = 8;
        st16be(m + 6, (uint16_t)i);
        st16be(m + 2, net_checksum(m, sizeof m, 0));
        give(&s, p, ip_frame(p, 1, GUEST, GATE, m, sizeof m, 1, 0, 64));
    }
    CHECK(s.n->queue_count <= NAT_QUEUE);
    s.full = false;
    net_kick_peer(&s.port);
    script_work(&s);
    while ((f = take(&s))) {
        CHECK(ld16be(f + 40) == last + 1);
        last = ld16be(f + 40);
        n++;
    }
    CHECK_EQ(n, NAT_QUEUE);
    script_end(&s);
}

/* restrict=on: nothing but DHCP, TFTP, guestfwd and hostfwd. */
TEST(restrict_keeps_the_guest_inside)
{
    struct script s;
    uint16_t port;
    const uint8_t *f;
    int fd = udp_any(&port);
    char c;
    CHECK(script_start(&s, "restrict=on"));
    send_udp(&s, GUEST, 5000, GATE, port, "x", 1);
    f = take(&s);
    CHECK(f && f[23] == 1 && f[34] == 3 && f[35] == 13);
    CHECK(recv(fd, &c, 1, MSG_DONTWAIT) < 0);
    s.gport = 1;
    send_tcp(&s, UINT32_C(0x01010101), 80, 1, 0, SYN, 100, NULL, 0, NULL, 0);
    f = take(&s);
    CHECK(f && f[23] == 1 && f[35] == 13);
    CHECK_EQ(s.n->tcp_count, 0);
    close(fd);
    script_end(&s);
}

/* RFC 4861: router advertisement and neighbour advertisement; RFC 8415 information request. */
TEST(ipv6_advertises_prefix_router_and_dns)
{
    struct script s;
    uint8_t f[200], *ip = f + 14, *m = f + 54;
    static const uint8_t mine[16] = { 0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xFF, 0xFE, 0x12, 0x34, 0x56 };
    static const uint8_t routers[16] = { 0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2 };
    struct nat_addr a, b;
    const uint8_t *p;
    size_t i;
    bool prefix = false, dns = false, mtu = false;
    CHECK(script_start(&s, ""));
    memset(f, 0, sizeof f);
    f[0] = f[1] = 0x33;
    f[5] = 2;
    memcpy(f + 6, guest_mac, 6);
    st16be(f + 12, 0x86DD);
    ip[0] = 0x60;
    st16be(ip + 4, 8);
    ip[6] = 58;
    ip[7] = 255;
    memcpy(ip + 8, mine, 16);
    memcpy(ip + 24, routers, 16);
    m[0] = 133;
    a = nat_v6(mine);
    b = nat_v6(routers);
    st16be(m + 2, net_checksum(m, 8, pkt_pseudo_sum(&a, &b, 58, 8)));
    give(&s, f, 62);
    p = take(&s);
    CHECK(p && ld16be(p + 12) == 0x86DD && p[54] == 134 && p[21] == 255);
    a = nat_v6(p + 22);
    b = nat_v6(p + 38);
    CHECK_EQ(net_checksum(p + 54, ld16be(p + 18), pkt_pseudo_sum(&a, &b, 58, ld16be(p + 18))), 0);
    for (i = 16; i < ld16be(p + 18); i += p[54 + i + 1] * 8u) {
        const uint8_t *o = p + 54 + i;
        prefix = prefix || (o[0] == 3 && o[2] == 64 && o[3] == 0xC0 && o[16] == 0xFE && o[17] == 0xC0);
        dns = dns || (o[0] == 25 && o[8] == 0xFE && o[23] == 3);
        mtu = mtu || (o[0] == 5 && ld32be(o + 4) == 1500);
    }
    CHECK(prefix && dns && mtu);
    ip[7] = 64; /* not from this link: ignored (RFC 4861 §6.1.1) */
    give(&s, f, 62);
    CHECK(!take(&s));
    script_end(&s);
}

TEST_MAIN(TEST_CASE(udp_datagram_behind_an_error_is_unharmed), TEST_CASE(guestfwd_closes_the_line_that_it_opened), TEST_CASE(tcp_rings_of_many_flows_are_small), TEST_CASE(tcp_reset_waits_for_room_in_the_nic), TEST_CASE(tcp_that_gives_up_a_closed_window_resets_both_ends), TEST_CASE(tcp_flows_take_turns_at_a_full_nic),
          TEST_CASE(guestfwd_leaves_a_chardev_in_use_alone), TEST_CASE(tcp_probes_zero_window_and_resumes), TEST_CASE(tcp_refused_connection_is_reset), TEST_CASE(tcp_delivers_data_both_ways_and_half_closes), TEST_CASE(tcp_is_silent_behind_its_fin),
          TEST_CASE(tcp_acknowledges_every_second_super_frame), TEST_CASE(tcp_acknowledges_out_of_order_data_with_sack), TEST_CASE(tcp_retransmits_by_sack_and_by_timeout), TEST_CASE(tcp_fast_retransmits_without_sack),
          TEST_CASE(tcp_identifies_packets_without_gaps), TEST_CASE(tcp_fast_retransmits_without_sack_from_a_full_window),
          TEST_CASE(tcp_answer_before_a_reset_is_delivered), TEST_CASE(ip_fragments_are_judged_like_whole_datagrams), TEST_CASE(hostfwd_goes_to_the_address_that_was_leased), TEST_CASE(net_of_16_addresses_has_one_for_the_guest),
          TEST_CASE(tcp_challenges_blind_reset_syn_and_ack), TEST_CASE(tcp_accepts_nothing_beyond_its_window), TEST_CASE(tcp_keeps_data_while_the_nic_is_full),
          TEST_CASE(tcp_keepalive_finds_a_dead_guest), TEST_CASE(tcp_urgent_pointer_is_harmless), TEST_CASE(zero_ports_are_dropped),
          TEST_CASE(tcp_option_overrun_ends_the_list), TEST_CASE(hostfwd_reset_when_guest_refuses_and_when_silent), TEST_CASE(hostfwd_errors_are_one_clear_line),
          TEST_CASE(hostfwd_port_in_use_is_named), TEST_CASE(hostfwd_is_added_listed_and_removed), TEST_CASE(hostfwd_unix_replaces_a_stale_socket),
          TEST_CASE(guestfwd_command_serves_again_and_again), TEST_CASE(guestfwd_chardev_goes_on_after_waiting), TEST_CASE(udp_maps_endpoints_and_names_the_right_sender),
          TEST_CASE(udp_port_unreachable_comes_back_with_the_right_quote), TEST_CASE(udp_datagrams_of_60000_bytes_pass_both_ways_in_fragments),
          TEST_CASE(ip_fragments_overlapping_or_too_large_are_dropped), TEST_CASE(icmp_echo_reply_has_exactly_the_question), TEST_CASE(icmp_time_exceeded_quotes_the_packet),
          TEST_CASE(short_packets_of_every_kind_are_dropped), TEST_CASE(arp_answers_for_host_dns_and_guestfwd_only),
          TEST_CASE(dhcp_leases_the_documented_addresses_and_options), TEST_CASE(dhcp_grants_an_unknown_free_address), TEST_CASE(dhcp_option_overrun_ends_the_list),
          TEST_CASE(dns_asks_every_resolver_and_checks_answers), TEST_CASE(dns_without_a_resolver_says_server_failure),
          TEST_CASE(tftp_serves_the_folder_and_nothing_else), TEST_CASE(tftp_small_block_sizes_are_safe), TEST_CASE(full_nic_queue_is_bounded_and_ordered),
          TEST_CASE(restrict_keeps_the_guest_inside), TEST_CASE(ipv6_advertises_prefix_router_and_dns))
