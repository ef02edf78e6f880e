/* net_stream.c - fuzz: what a peer of -netdev stream sends. Input: repeated (length byte, flags, bytes of the stream).
 *
 * The backend reads from one end of a socket pair; the bytes arrive in the given portions. Flags: our machine is full for this portion (1), it has room
 * again (2), it sends a frame of its own (4), the length byte counts 64 times (8).
 */
#include "machine.h"
#include "net/net.h"
#include <sys/socket.h>
#include <unistd.h>

static bool fuzz_full;
static void fuzz_log(void *opaque, const char *line) /* a peer that is cut off is news each time */
{
    (void)opaque;
    (void)line;
}
static bool fuzz_can_receive(struct net_port *p)
{
    (void)p;
    return !fuzz_full;
}
static int fuzz_receive(struct net_port *p, const struct net_frame *f)
{
    static uint8_t b[70000];
    (void)p;
    if (fuzz_full)
        return 0;
    if (f->size > sizeof b || net_frame_copy(f, 0, b, sizeof b) != f->size)
        abort();
    return 1;
}

static void fuzz_poll(struct emu *e)
{
    struct watch *w;
    for (w = e->watches; w; w = w->next)
        if (w->want & HOST_READ) {
            w->ready(w->opaque, HOST_READ);
            break; /* the list may have changed; there is one descriptor */
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct emu_hooks hooks = { NULL, fuzz_log, NULL };
    struct emu *e = emu_new(&hooks);
    struct net_port port, *backend;
    struct options o;
    struct err err;
    struct host_iov v;
    struct net_frame f;
    uint8_t bytes[100] = { 0xFF };
    char text[64];
    size_t at = 0;
    int pair[2];
    if (!e || clock_create(e) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        abort();
    e->config.icount = true;
    memset(&port, 0, sizeof port);
    port.can_receive = fuzz_can_receive;
    port.receive = fuzz_receive;
    fuzz_full = false;
    net_port_register(e, &port);
    snprintf(text, sizeof text, "stream,addr.type=fd,addr.str=%d", pair[0]);
    if (options_parse(&o, e, "-netdev", text, "type", &err) || netdev_stream_create(e, "n", &o, &backend, &err))
        abort();
    options_free(&o);
    net_port_connect(&port, backend, &err);
    while (at + 2 <= size) {
        size_t n = (size_t)data[at] * (data[at + 1] & 8 ? 64 : 1);
        uint8_t flags = data[at + 1];
        at += 2;
        n = EMU_MIN(n, size - at);
        if (n && send(pair[1], data + at, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            n = size - at; /* the backend has hung up */
        at += n;
        fuzz_full = flags & 1;
        fuzz_poll(e);
        if (flags & 2) {
            fuzz_full = false;
            net_kick_peer(&port);
        }
        if (flags & 4) {
            v.base = bytes;
            v.size = sizeof bytes;
            memset(&f, 0, sizeof f);
            f.pieces = &v;
            f.count = 1;
            f.size = sizeof bytes;
            net_send(&port, &f);
            while (recv(pair[1], text, sizeof text, MSG_DONTWAIT) > 0) {
            }
        }
    }
    close(pair[1]);
    fuzz_poll(e);
    backend->destroy(backend);
    net_port_unregister(e, &port);
    emu_destroy(e);
    return 0;
}
