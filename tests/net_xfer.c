/* net_xfer.c - the two ends of the transfers of tests/net_matrix.sh; plain sockets, every byte checked against a generator.
 *
 * net_xfer server PORT              answers on 127.0.0.1 until killed (a process per connection)
 * net_xfer MODE ADDRESS PORT BYTES [COUNT]
 *     up, down    that many bytes to or from the server; half: up, then a half-close, then the server's count
 *     zero        down with a reader that stops for 0.3 s at random points (zero windows)
 *     reset       a reset at a random point, either side; only a fresh transfer afterwards must work
 *     COUNT       as many at once, a process each; with mode short one after the other
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static int server(uint16_t port)
{
    struct sockaddr_in a;
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0), fd;
    signal(SIGCHLD, SIG_IGN);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 1024))
        return 1;
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

int main(int argc, char **argv)
{
    uint64_t bytes;
    unsigned count, i, good = 0;
    struct timespec a, b;
    double s;
    signal(SIGPIPE, SIG_IGN);
    if (argc >= 3 && !strcmp(argv[1], "server"))
        return server((uint16_t)atoi(argv[2]));
    if (argc < 5)
        return 2;
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
