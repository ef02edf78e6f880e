/* net_xfer.c - the two ends of the transfers of tests/net_matrix.sh; plain sockets, every byte checked against a generator.
 *
 * net_xfer server PORT [ADDRESS]    answers on 127.0.0.1 until killed (a process per connection); UDP echo on PORT, a DNS that knows every
 *                                   name on PORT + 1 (UDP and TCP)
 * net_xfer MODE ADDRESS PORT BYTES [COUNT]
 *     up, down    that many bytes to or from the server; half: up, then a half-close, then the server's count
 *     zero        down with a reader that stops for 0.3 s at random points (zero windows)
 *     reset       a reset at a random point, either side; only a fresh transfer afterwards must work
 *     COUNT       as many at once, a process each; with mode short one after the other
 * net_xfer hold ADDRESS PORT SECONDS COUNT
 *     that many connections that say nothing
 * net_xfer soak ADDRESS PORT SECONDS [PER_SECOND] [tcp]
 *     a random mix of all of it, with refused connections, UDP, DNS at 10.0.2.3 and pings of ADDRESS (tcp: without these), so many steps a second
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 65536 };

static uint8_t byte_at(uint64_t i) { return (uint8_t)((i * UINT64_C(0x9E3779B97F4A7C15)) >> 56 ^ i); }

static int all(int fd, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int push(int fd, uint64_t bytes, uint64_t stop)
{
    static uint8_t b[BLOCK];
    uint64_t at = 0;
    while (at < bytes && at < stop) {
        size_t n = bytes - at < BLOCK ? (size_t)(bytes - at) : BLOCK, i;
        for (i = 0; i < n; i++)
            b[i] = byte_at(at + i);
        if (all(fd, b, n))
            return -1;
        at += n;
    }
    return 0;
}

/* Bytes that came and were right, to the end or to `bytes`. */
static uint64_t pull(int fd, uint64_t bytes, int pauses)
{
    static uint8_t b[BLOCK];
    uint64_t at = 0;
    while (at < bytes) {
        ssize_t n = recv(fd, b, bytes - at < BLOCK ? (size_t)(bytes - at) : BLOCK, 0), i;
        if (n <= 0)
            break;
        for (i = 0; i < n; i++)
            if (b[i] != byte_at(at + (uint64_t)i))
                return at + (uint64_t)i;
        at += (uint64_t)n;
        if (pauses && rand() % 200 == 0)
            usleep(300000);
    }
    return at;
}

static void abort_it(int fd)
{
    struct linger l;
    l.l_onoff = 1;
    l.l_linger = 0;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

static void serve(int fd)
{
    uint8_t h[9], n[8];
    uint64_t bytes = 0, got;
    int i;
    char c;
    if (recv(fd, h, 9, MSG_WAITALL) != 9)
        return;
    for (i = 0; i < 8; i++)
        bytes = bytes << 8 | h[1 + i];
    switch (h[0]) {
    case 'd':
    case 'z':
        if (!push(fd, bytes, UINT64_MAX)) {
            shutdown(fd, SHUT_WR);
            (void)!recv(fd, &c, 1, 0);
        }
        break;
    case 'u':
    case 'h':
        got = pull(fd, h[0] == 'h' ? UINT64_MAX : bytes, 0);
        for (i = 0; i < 8; i++)
            n[i] = (uint8_t)(got >> (56 - 8 * i));
        all(fd, n, 8);
        break;
    case 'r': /* the server resets */
        push(fd, bytes, bytes / 2);
        abort_it(fd);
        break;
    default: break;
    }
}

/* RFC 1035: one A record for whatever is asked. Bytes of the answer, in place. */
static size_t dns_answer(uint8_t *m, size_t size, size_t max)
{
    static const uint8_t record[] = { 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1 };
    if (size < 17 || size + sizeof record > max)
        return 0;
    m[2] |= 0x80;
    m[7] = 1;
    m[9] = m[11] = 0; /* without the additional records of the question, which are not at its end then */
    memcpy(m + size, record, sizeof record);
    return size + sizeof record;
}

static int bound(int type, const char *address, uint16_t port)
{
    struct sockaddr_in a;
    int one = 1, s = socket(AF_INET, type, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    inet_pton(AF_INET, address, &a.sin_addr);
    a.sin_port = htons(port);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(s, (struct sockaddr *)&a, sizeof a) || (type == SOCK_STREAM && listen(s, 1024))) {
        close(s);
        return -1;
    }
    return s;
}

static void datagrams(const char *address, uint16_t port, int dns)
{
    static uint8_t b[65536];
    int s = bound(SOCK_DGRAM, address, port);
    for (;;) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t n = recvfrom(s, b, sizeof b, 0, (struct sockaddr *)&from, &size);
        if (n < 0 && errno != EINTR && errno != ECONNREFUSED)
            _exit(1);
        if (n >= 0)
            (void)!sendto(s, b, dns ? dns_answer(b, (size_t)n, sizeof b) : (size_t)n, 0, (struct sockaddr *)&from, size);
    }
}

static void dns_stream(int s)
{
    int fd;
    while ((fd = accept(s, NULL, NULL)) >= 0 || errno == EINTR || errno == ECONNABORTED) {
        uint8_t b[2 + 1024];
        size_t n;
        if (fd < 0)
            continue;
        while (recv(fd, b, 2, MSG_WAITALL) == 2 && (n = (size_t)b[0] << 8 | b[1]) <= 512 && recv(fd, b + 2, n, MSG_WAITALL) == (ssize_t)n) {
            n = dns_answer(b + 2, n, 1024);
            b[0] = (uint8_t)(n >> 8);
            b[1] = (uint8_t)n;
            all(fd, b, n + 2);
        }
        close(fd);
    }
}

static int server(uint16_t port, const char *address)
{
    int s = bound(SOCK_STREAM, address, port), dns = bound(SOCK_STREAM, address, (uint16_t)(port + 1)), fd, i;
    pid_t parent = getpid();
    signal(SIGCHLD, SIG_IGN);
    if (s < 0)
        return 1;
    for (i = 0; i < 3; i++)
        if (fork() == 0) {
            close(s);
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            if (getppid() != parent)
                _exit(1);
            if (i < 2)
                datagrams(address, (uint16_t)(port + i), i);
            else
                dns_stream(dns);
            _exit(1);
        }
    close(dns);
    while ((fd = accept(s, NULL, NULL)) >= 0 || errno == EINTR || errno == ECONNABORTED) {
        if (fd < 0)
            continue;
        if (fork() == 0) {
            close(s);
            serve(fd);
            close(fd);
            _exit(0);
        }
        close(fd);
    }
    return 0;
}

static int once(const char *mode, const char *host, uint16_t port, uint64_t bytes)
{
    struct sockaddr_in a;
    struct timeval t;
    uint8_t h[9], n[8];
    uint64_t got = 0;
    int i, ok = 0, fd = socket(AF_INET, SOCK_STREAM, 0);
    char c;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    inet_pton(AF_INET, host, &a.sin_addr);
    t.tv_sec = 180;
    t.tv_usec = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        return 0;
    }
    if (!strcmp(mode, "reset"))
        mode = rand() & 1 ? "reset" : "break";
    h[0] = (uint8_t)(!strcmp(mode, "break") ? 'd' : !strcmp(mode, "short") ? 'u' : mode[0]);
    for (i = 0; i < 8; i++)
        h[1 + i] = (uint8_t)(bytes >> (56 - 8 * i));
    if (all(fd, h, 9)) {
        close(fd);
        return 0;
    }
    if (!strcmp(mode, "down") || !strcmp(mode, "zero")) {
        got = pull(fd, bytes, mode[0] == 'z');
        ok = got == bytes && recv(fd, &c, 1, 0) == 0;
    } else if (!strcmp(mode, "break")) { /* we reset */
        pull(fd, bytes / 3 + 1, 0);
        abort_it(fd);
        ok = 1;
    } else if (!strcmp(mode, "reset")) {
        ok = pull(fd, bytes, 0) < bytes;
    } else {
        ok = !push(fd, bytes, UINT64_MAX);
        if (mode[0] == 'h')
            shutdown(fd, SHUT_WR);
        ok = ok && recv(fd, n, 8, MSG_WAITALL) == 8;
        for (i = 0; i < 8; i++)
            got = got << 8 | n[i];
        ok = ok && got == bytes && recv(fd, &c, 1, 0) == 0;
    }
    close(fd);
    return ok;
}

/* ---- the mix ---- */

static void at_address(struct sockaddr_in *a, const char *host, uint16_t port)
{
    memset(a, 0, sizeof *a);
    a->sin_family = AF_INET;
    a->sin_port = htons(port);
    inet_pton(AF_INET, host, &a->sin_addr);
}

static ssize_t answer(int fd, void *b, size_t size, int ms)
{
    struct pollfd p;
    p.fd = fd;
    p.events = POLLIN;
    return poll(&p, 1, ms) > 0 ? recv(fd, b, size, 0) : -1;
}

/* Datagrams of several sizes there and back; a lost one is asked for again, as UDP's users do. */
static int soak_udp(const char *host, uint16_t port)
{
    static const size_t sizes[] = { 0, 1, 100, 1472, 1473, 9000, 60000 };
    static uint8_t out[65536], in[65536];
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), i, tries, ok = 1;
    at_address(&a, host, port);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        ok = 0;
    for (i = 0; ok && i < 3; i++) {
        size_t size = sizes[rand() % 7], k;
        for (k = 0; k < size; k++)
            out[k] = byte_at(k + (uint64_t)size);
        for (tries = 0; tries < 3; tries++) {
            ssize_t n;
            (void)!send(fd, out, size, 0);
            n = answer(fd, in, sizeof in, 1000);
            if (n == (ssize_t)size && !memcmp(in, out, size))
                break;
        }
        ok = tries < 3;
    }
    close(fd);
    return ok;
}

/* Nobody listens there: the network says so. */
static int soak_refused(const char *host, uint16_t port, int type)
{
    struct sockaddr_in a;
    int fd = socket(AF_INET, type, 0), ok;
    char c = 0;
    at_address(&a, host, port);
    ok = connect(fd, (struct sockaddr *)&a, sizeof a) < 0;
    if (type == SOCK_DGRAM)
        ok = send(fd, &c, 1, 0) == 1 && answer(fd, &c, 1, 2000) < 0 && errno == ECONNREFUSED;
    close(fd);
    return ok;
}

static int soak_dns(int type)
{
    static const uint8_t question[] = { 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 's', 'o', 'a', 'k', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1 };
    uint8_t b[600];
    struct sockaddr_in a;
    int fd = socket(AF_INET, type, 0), tries, ok = 0;
    size_t prefix = type == SOCK_STREAM ? 2 : 0;
    at_address(&a, "10.0.2.3", 53);
    if (!connect(fd, (struct sockaddr *)&a, sizeof a))
        for (tries = 0; !ok && tries < 3; tries++) {
            ssize_t n;
            memcpy(b + prefix, question, sizeof question);
            b[prefix] = (uint8_t)rand();
            if (prefix) {
                b[0] = 0;
                b[1] = sizeof question;
            }
            (void)!send(fd, b, prefix + sizeof question, MSG_NOSIGNAL);
            n = answer(fd, b, sizeof b, 2000);
            ok = n > (ssize_t)(prefix + sizeof question) && b[n - 1] == 1 && b[n - 4] == 192;
        }
    close(fd);
    return ok;
}

static int soak_ping(const char *host)
{
    static unsigned sequence;
    uint8_t b[2048];
    struct icmphdr h;
    struct sockaddr_in a;
    size_t size = sizeof h + (size_t)(rand() % 1400), i;
    uint32_t sum = 0;
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), ok = 0, left = 50;
    if (fd < 0)
        return 0;
    at_address(&a, host, 0);
    memset(&h, 0, sizeof h);
    h.type = ICMP_ECHO;
    h.un.echo.id = htons((uint16_t)getpid());
    h.un.echo.sequence = htons((uint16_t)++sequence);
    for (i = sizeof h; i < size; i++)
        b[i] = byte_at(i);
    memcpy(b, &h, sizeof h);
    b[size] = 0;
    for (i = 0; i < size; i += 2)
        sum += (uint32_t)b[i] << 8 | b[i + 1];
    sum = (sum & 0xFFFF) + (sum >> 16);
    h.checksum = htons((uint16_t)~(sum + (sum >> 16)));
    memcpy(b, &h, sizeof h);
    if (sendto(fd, b, size, 0, (struct sockaddr *)&a, sizeof a) == (ssize_t)size)
        while (!ok && left--) {
            ssize_t n = answer(fd, b, sizeof b, 2000);
            if (n < 0)
                break;
            if (n == (ssize_t)(20 + size) && b[20] == ICMP_ECHOREPLY && b[24] == (getpid() >> 8 & 255) && b[25] == (getpid() & 255) && b[26] == (sequence >> 8 & 255) && b[27] == (sequence & 255))
                ok = 1;
        }
    close(fd);
    return ok;
}

static int soak(const char *host, uint16_t port, double seconds, double per_second, int tcp_only)
{
    static const char *const names[] = { "up", "down", "half", "short", "break", "reset", "refused", "udp", "udp_refused", "dns", "dns_tcp", "ping" };
    enum { KINDS = sizeof names / sizeof names[0], TCP_KINDS = 6 };
    unsigned done[KINDS] = { 0 }, failed[KINDS] = { 0 }, total = 0, bad = 0, i;
    struct timespec start, now;
    double passed = 0;
    srand((unsigned)getpid());
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (passed < seconds) {
        unsigned kind = (unsigned)rand() % (tcp_only ? TCP_KINDS : KINDS);
        uint64_t bytes = kind == 3 ? 100 : (uint64_t)1 << (rand() % 12 + 9);
        int ok;
        bytes += (uint64_t)(rand() % 1000) + (kind == 5 ? 200000 : 0); /* a reset must come before the end, which the server writes in blocks */
        switch (kind) {
        case 6: ok = soak_refused(host, (uint16_t)(port + 7), SOCK_STREAM); break;
        case 7: ok = soak_udp(host, port); break;
        case 8: ok = soak_refused(host, (uint16_t)(port + 7), SOCK_DGRAM); break;
        case 9: ok = soak_dns(SOCK_DGRAM); break;
        case 10: ok = soak_dns(SOCK_STREAM); break;
        case 11: ok = soak_ping(host); break;
        default: ok = once(names[kind], host, port, bytes); break;
        }
        done[kind]++;
        total++;
        if (!ok) {
            failed[kind]++;
            bad++;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        passed = (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
        if ((double)total / per_second > passed)
            usleep((useconds_t)(((double)total / per_second - passed) * 1e6));
    }
    for (i = 0; i < KINDS; i++)
        if (done[i])
            printf("%s %u, ", names[i], done[i]);
    printf("together %u, failed %u", total, bad);
    for (i = 0; i < KINDS; i++)
        if (failed[i])
            printf(", %s %u", names[i], failed[i]);
    printf("\n");
    return bad != 0;
}

static int hold(const char *host, uint16_t port, unsigned seconds, unsigned count)
{
    struct sockaddr_in a;
    unsigned i;
    at_address(&a, host, port);
    for (i = 0; i < count; i++) /* the process's end closes them */
        if (connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof a))
            return 1;
    printf("%u connections\n", count);
    fflush(stdout);
    sleep(seconds);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t bytes;
    unsigned count, i, good = 0;
    struct timespec a, b;
    double s;
    signal(SIGPIPE, SIG_IGN);
    if (argc >= 3 && !strcmp(argv[1], "server"))
        return server((uint16_t)atoi(argv[2]), argc > 3 ? argv[3] : "127.0.0.1");
    if (argc < 5)
        return 2;
    if (!strcmp(argv[1], "hold") && argc > 5)
        return hold(argv[2], (uint16_t)atoi(argv[3]), (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]));
    if (!strcmp(argv[1], "soak"))
        return soak(argv[2], (uint16_t)atoi(argv[3]), atof(argv[4]), argc > 5 ? atof(argv[5]) : 50, argc > 6);
    bytes = strtoull(argv[4], NULL, 0);
    count = argc > 5 ? (unsigned)atoi(argv[5]) : 1;
    srand((unsigned)count + (unsigned)bytes);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (i = 0; i < count; i++) {
        if (count == 1 || !strcmp(argv[1], "short")) {
            good += (unsigned)once(argv[1], argv[2], (uint16_t)atoi(argv[3]), bytes);
        } else if (fork() == 0) {
            static const char *const mix[] = { "up", "down", "half" };
            srand(i);
            _exit(!once(strcmp(argv[1], "mix") ? argv[1] : mix[i % 3], argv[2], (uint16_t)atoi(argv[3]), bytes));
        }
    }
    if (count > 1 && strcmp(argv[1], "short"))
        for (i = 0; i < count; i++) {
            int status = 1;
            wait(&status);
            good += status == 0;
        }
    clock_gettime(CLOCK_MONOTONIC, &b);
    s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    printf("%s %u of %u, %.2f s, %.2f Gbit/s\n", argv[1], good, count, s, (double)bytes * 8 * count / s / 1e9);
    return good != count;
}
