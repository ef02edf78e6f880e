/* net/tftp.c - a read-only TFTP server at the host's address.
 *
 * Models     RFC 1350, RFC 2347 (options), 2348 (blksize), 2349 (timeout, tsize), 7440 (windowsize).
 * Contract   udp.c offers it every datagram; it takes those for port 69 of the host's address and those of its sessions. Files come from -netdev
 *            user,tftp=FOLDER through host_file_open_beneath() only.
 * Theory     A session is a guest's port and a port of ours (RFC 1350's transfer identifiers). It sends a window of blocks and goes on at each ACK; its virtual timer sends
 *            the window again, and gives up after TFTP_TRIES.
 * Invariants 1. Nothing outside the folder is opened: no "..", no symbolic link, no device.
 *            2. A session sends only in answer to its guest or its timer; an ACK for a block that was not sent changes nothing.
 *            3. At most TFTP_MAX sessions; the one idle longest goes first.
 * Missing    Writing: refused with error 2.
 */
#include "../machine.h"
#include "net.h"
#include "nat.h"

enum { TFTP_MAX = 16, TFTP_TRIES = 6, TFTP_BLOCK_MAX = 65464, TFTP_RRQ = 1, TFTP_WRQ = 2, TFTP_DATA = 3, TFTP_ACK = 4, TFTP_ERROR = 5, TFTP_OACK = 6 };

struct tftp_session {
    struct nat *nat;
    struct tftp_session *next;
    struct nat_addr guest, server;
    uint16_t guest_port, port;
    struct host_file *file;
    uint64_t size, acked; /* acked: blocks, counted from 1 */
    unsigned block, window, tries;
    int64_t timeout_ns, used_ns;
    bool netascii, options; /* options: the OACK is not acknowledged yet */
    uint8_t oack[128];
    size_t oack_size;
    uint8_t *text; /* netascii: the whole file, converted */
    struct timer timer;
};

static void tftp_free(struct tftp_session *s)
{
    struct nat *n = s->nat;
    struct tftp_session **at = &n->tftp_list;
    while (*at && *at != s)
        at = &(*at)->next;
    if (*at) {
        *at = s->next;
        n->tftp_count--;
    }
    timer_cancel(&s->timer);
    if (s->file)
        host_file_close(s->file);
    emu_free(n->emu, s->text);
    emu_free(n->emu, s);
}

static void tftp_send_error(struct nat *n, const struct nat_addr *from, uint16_t port, const struct nat_addr *guest, uint16_t guest_port, uint16_t code, const char *text)
{
    uint8_t m[64];
    size_t size = strlen(text) + 1;
    st16be(m, TFTP_ERROR);
    st16be(m + 2, code);
    memcpy(m + 4, text, EMU_MIN(size, sizeof m - 4));
    udp_send(n, from, port, guest, guest_port, NULL, m, 4 + EMU_MIN(size, sizeof m - 4));
}

/* The window behind what was acknowledged, or the OACK. */
static void tftp_send(struct tftp_session *s)
{
    struct nat *n = s->nat;
    unsigned i;
    timer_arm(&s->timer, emu_now_ns(n->emu) + s->timeout_ns);
    if (s->options) {
        udp_send(n, &s->server, s->port, &s->guest, s->guest_port, NULL, s->oack, s->oack_size);
        return;
    }
    for (i = 0; i < s->window; i++) {
        uint64_t block = s->acked + 1 + i, offset = (block - 1) * s->block;
        uint8_t *m = n->scratch + 8; /* where udp_send() wants it */
        size_t size;
        if (offset > s->size)
            break;
        size = (size_t)EMU_MIN(s->size - offset, (uint64_t)s->block);
        st16be(m, TFTP_DATA);
        st16be(m + 2, (uint16_t)block);
        if (s->text) {
            memcpy(m + 4, s->text + offset, size);
        } else if (size && host_file_read(s->file, offset, m + 4, size) < 0) {
            tftp_send_error(n, &s->server, s->port, &s->guest, s->guest_port, 0, "the file can't be read");
            tftp_free(s);
            return;
        }
        udp_send(n, &s->server, s->port, &s->guest, s->guest_port, NULL, m, size + 4);
        if (size < s->block)
            break;
    }
}

static void tftp_on_timer(void *opaque)
{
    struct tftp_session *s = opaque;
    if (++s->tries >= TFTP_TRIES)
        tftp_free(s);
    else
        tftp_send(s);
}

static bool tftp_same_word(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a | 0x20) != (*b | 0x20))
            return false;
    return *a == *b;
}

static void tftp_add_option(struct tftp_session *s, const char *name, uint64_t value)
{
    char text[24];
    size_t a = strlen(name) + 1, b;
    snprintf(text, sizeof text, "%" PRIu64, value);
    b = strlen(text) + 1;
    if (!s->oack_size) {
        st16be(s->oack, TFTP_OACK);
        s->oack_size = 2;
    }
    if (s->oack_size + a + b > sizeof s->oack)
        return;
    memcpy(s->oack + s->oack_size, name, a);
    memcpy(s->oack + s->oack_size + a, text, b);
    s->oack_size += a + b;
    s->options = true;
}

/* LF -> CR LF, CR -> CR NUL (RFC 764). false: too large or out of memory. */
static bool tftp_convert(struct tftp_session *s)
{
    static const uint64_t limit = 64 * 1024 * 1024;
    uint8_t *raw, *to;
    size_t i, size = 0;
    if (s->size > limit || !(raw = emu_alloc(s->nat->emu, (size_t)s->size + 1)))
        return false;
    to = emu_alloc(s->nat->emu, (size_t)s->size * 2 + 1);
    if (!to || (s->size && host_file_read(s->file, 0, raw, (size_t)s->size) < 0)) {
        emu_free(s->nat->emu, raw);
        emu_free(s->nat->emu, to);
        return false;
    }
    for (i = 0; i < s->size; i++) {
        if (raw[i] == '\n')
            to[size++] = '\r';
        to[size++] = raw[i];
        if (raw[i] == '\r')
            to[size++] = 0;
    }
    emu_free(s->nat->emu, raw);
    s->text = to;
    s->size = size;
    return true;
}

/* Next NUL-terminated word; NULL at the end. */
static const char *tftp_word(const uint8_t *m, size_t size, size_t *at)
{
    size_t from = *at;
    const uint8_t *end = from < size ? memchr(m + from, 0, size - from) : NULL;
    if (!end)
        return NULL;
    *at = (size_t)(end - m) + 1;
    return (const char *)m + from;
}

static void tftp_request(struct nat *n, struct pkt *p, uint16_t guest_port, const uint8_t *m, size_t size)
{
    struct tftp_session *s, *old;
    struct nat_addr guest = p->src, server = p->dst;
    const char *name, *mode, *key, *value;
    size_t at = 2, fragment_free = n->mtu - (size_t)(nat_is_v4(&p->dst) ? NAT_IP4_BYTES : NAT_IP6_BYTES) - 12;
    uint64_t v;
    int64_t length;
    int r;
    name = tftp_word(m, size, &at);
    mode = name ? tftp_word(m, size, &at) : NULL;
    if (!mode)
        return;
    if (ld16be(m) != TFTP_RRQ) {
        tftp_send_error(n, &server, 69, &guest, guest_port, 2, "this server is read-only");
        return;
    }
    for (old = n->tftp_list; old; old = old->next) /* the same request again replaces its session */
        if (old->guest_port == guest_port && nat_addr_eq(&old->guest, &guest)) {
            tftp_free(old);
            break;
        }
    if (n->tftp_count >= TFTP_MAX) {
        struct tftp_session *oldest = n->tftp_list;
        for (old = n->tftp_list; old; old = old->next)
            if (old->used_ns < oldest->used_ns)
                oldest = old;
        tftp_free(oldest);
    }
    s = emu_alloc(n->emu, sizeof *s);
    if (!s)
        return;
    s->nat = n;
    s->guest = guest;
    s->server = server;
    s->guest_port = guest_port;
    s->block = 512;
    s->window = 1;
    s->timeout_ns = NS_PER_SEC;
    s->used_ns = emu_now_ns(n->emu);
    timer_init(&s->timer, n->emu, tftp_on_timer, s);
    s->netascii = tftp_same_word(mode, "netascii");
    if (!s->netascii && !tftp_same_word(mode, "octet")) {
        tftp_send_error(n, &server, 69, &guest, guest_port, 4, "unknown mode");
        tftp_free(s);
        return;
    }
    r = host_file_open_beneath(&s->file, n->tftp, name);
    if (r < 0 || (length = host_file_size(s->file)) < 0) {
        tftp_send_error(n, &server, 69, &guest, guest_port, r == EMU_EACCES ? 2 : 1, r == EMU_EACCES ? "access violation" : "file not found");
        tftp_free(s);
        return;
    }
    s->size = (uint64_t)length;
    if (s->netascii && !tftp_convert(s)) {
        tftp_send_error(n, &server, 69, &guest, guest_port, 0, "file too large for netascii");
        tftp_free(s);
        return;
    }
    while ((key = tftp_word(m, size, &at)) && (value = tftp_word(m, size, &at))) {
        if (parse_u64(value, 0, UINT32_MAX, &v))
            continue;
        if (tftp_same_word(key, "blksize") && v >= 8) {
            s->block = (unsigned)EMU_MIN(EMU_MIN(v, (uint64_t)TFTP_BLOCK_MAX), (uint64_t)fragment_free);
            tftp_add_option(s, "blksize", s->block);
        } else if (tftp_same_word(key, "tsize")) {
            tftp_add_option(s, "tsize", s->size);
        } else if (tftp_same_word(key, "timeout") && v >= 1 && v <= 255) {
            s->timeout_ns = (int64_t)v * NS_PER_SEC;
            tftp_add_option(s, "timeout", v);
        } else if (tftp_same_word(key, "windowsize") && v >= 1 && v <= 65535) {
            s->window = (unsigned)EMU_MIN(v, (uint64_t)64);
            tftp_add_option(s, "windowsize", s->window);
        }
    }
    s->port = (uint16_t)(49152 + nat_random(n) % 16384);
    s->next = n->tftp_list;
    n->tftp_list = s;
    n->tftp_count++;
    tftp_send(s);
}

static void tftp_ack(struct tftp_session *s, uint16_t block)
{
    uint64_t last = s->size / s->block + 1; /* the short block that ends it */
    uint64_t acked;
    s->used_ns = emu_now_ns(s->nat->emu);
    if (s->options) {
        if (block)
            return;
        s->options = false;
        s->tries = 0;
        tftp_send(s);
        return;
    }
    acked = s->acked + (uint16_t)(block - (uint16_t)s->acked); /* numbers wrap in files beyond 65535 blocks */
    if (acked == s->acked || acked > s->acked + s->window || acked > last)
        return;
    s->acked = acked;
    s->tries = 0;
    if (acked == last)
        tftp_free(s);
    else
        tftp_send(s);
}

EMU_PRIV bool tftp_input(struct nat *n, struct pkt *p, uint16_t guest_port, uint16_t port, const uint8_t *m, size_t size)
{
    struct nat_addr host = nat_own_addr(n, nat_is_v4(&p->dst));
    struct tftp_session *s;
    if (!n->tftp || !nat_addr_eq(&p->dst, &host))
        return false;
    if (port == 69) {
        if (size >= 4 && (ld16be(m) == TFTP_RRQ || ld16be(m) == TFTP_WRQ))
            tftp_request(n, p, guest_port, m, size);
        return true;
    }
    for (s = n->tftp_list; s; s = s->next)
        if (s->port == port && s->guest_port == guest_port && nat_addr_eq(&s->guest, &p->src)) {
            if (size >= 4 && ld16be(m) == TFTP_ACK)
                tftp_ack(s, ld16be(m + 2));
            else if (size >= 2 && ld16be(m) == TFTP_ERROR)
                tftp_free(s);
            return true;
        }
    return false;
}

EMU_PRIV void tftp_destroy(struct nat *n)
{
    while (n->tftp_list)
        tftp_free(n->tftp_list);
}
