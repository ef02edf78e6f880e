/* net/link.c - ports, hubs, and the frames between them.
 *
 * Models     What `-netdev`, `-nic` and `-net` of QEMU's manual describe; hub 0 joins the members that -net names.
 * Contract   NICs and backends register a struct net_port and are connected in pairs. net_send() gives a frame to the peer; a 0 means "full: keep
 *            it, kick() will tell you". net_create() reads the command line; NIC devices are made by the board from what it leaves.
 * Theory     A frame is a list of pieces that belong to the sender and lives during the call only. It may be a super-frame: one TCP header
 *            and up to 64 KiB of payload that stands for many segments (gso), or have its checksum left open (needs_csum). A receiver that
 *            said takes_gso/takes_csum gets it as it is; for others it is cut here. A hub passes it on as it is when every port takes it.
 *            Filters sit between a port and its peer, in the order they were attached; the first that takes a frame ends its way, or
 *            lets it go on behind itself later.
 * Invariants 1. p->peer->peer == p.
 *            2. A port that is down gets nothing; what was for it is dropped and counted.
 *            3. Between exactly two ends (also across a hub with two ports) nothing is dropped for want of room.
 *            4. Hubs joined in a ring end a frame's way after a few rounds.
 */
#include "../machine.h"
#include "net.h"

#define NET_PLAIN_MAX 65550u /* largest plain frame: 64 KiB IP packet, Ethernet and VLAN headers */

/* ---- checksums ---- */

EMU_PRIV uint32_t net_checksum_add(const void *data, size_t size, uint32_t sum)
{
    const uint8_t *p = data;
    uint64_t wide = sum, swapped = 0;
    /* The sum of 16-bit words is the same in any byte order up to the order of its own bytes, and may be made 32 bits at a time (RFC 1071 §2). The
     * little-endian one costs most hosts nothing but its swap at the end. */
    while (size >= 32) {
        swapped += ((uint64_t)ld32le(p) + ld32le(p + 4)) + ((uint64_t)ld32le(p + 8) + ld32le(p + 12));
        swapped += ((uint64_t)ld32le(p + 16) + ld32le(p + 20)) + ((uint64_t)ld32le(p + 24) + ld32le(p + 28));
        p += 32;
        size -= 32;
    }
    if (swapped) {
        while (swapped >> 16)
            swapped = (swapped & 0xFFFF) + (swapped >> 16);
        wide += (swapped & 0xFF) << 8 | swapped >> 8;
    }
    while (size >= 2) {
        wide += ld16be(p);
        p += 2;
        size -= 2;
    }
    if (size)
        wide += (uint32_t)p[0] << 8;
    while (wide >> 16 > 0xFFFF)
        wide = (wide & 0xFFFF) + (wide >> 16);
    return (uint32_t)((wide & 0xFFFF) + (wide >> 16));
}

EMU_PRIV uint16_t net_checksum_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)sum;
}

EMU_PRIV uint16_t net_checksum(const void *data, size_t size, uint32_t start) { return (uint16_t)~net_checksum_fold(net_checksum_add(data, size, start)); }

/* ---- frames ---- */

EMU_PRIV size_t net_frame_copy(const struct net_frame *f, size_t offset, void *buf, size_t size)
{
    uint8_t *to = buf;
    size_t done = 0;
    int i;
    for (i = 0; i < f->count && done < size; i++) {
        size_t n = f->pieces[i].size;
        if (offset >= n) {
            offset -= n;
            continue;
        }
        n = EMU_MIN(n - offset, size - done);
        memcpy(to + done, (uint8_t *)f->pieces[i].base + offset, n);
        done += n;
        offset = 0;
    }
    return done;
}

static int net_frame_flat(uint8_t *bytes, size_t size, int (*each)(void *, const struct net_frame *), void *opaque)
{
    struct host_iov piece;
    struct net_frame plain;
    memset(&plain, 0, sizeof plain);
    piece.base = bytes;
    piece.size = size;
    plain.pieces = &piece;
    plain.count = 1;
    plain.size = size;
    plain.csum_valid = true;
    return each(opaque, &plain);
}

/* Headers of one cut segment: lengths, IPv4 id and checksum, TCP sequence, flags and checksum. */
static void net_cut_headers(uint8_t *frame, const struct net_frame *f, size_t ip, size_t l4, size_t payload, uint32_t index, uint32_t done, bool last)
{
    size_t l4_size = f->header_bytes - l4 + payload;
    uint32_t sum;
    if (f->gso == NET_GSO_TCP6) {
        st16be(frame + ip + 4, (uint16_t)(f->header_bytes - ip - 40 + payload));
        sum = net_checksum_add(frame + ip + 8, 32, 0);
    } else {
        st16be(frame + ip + 2, (uint16_t)(f->header_bytes - ip + payload));
        st16be(frame + ip + 4, (uint16_t)(ld16be(frame + ip + 4) + index));
        st16be(frame + ip + 10, 0);
        st16be(frame + ip + 10, net_checksum(frame + ip, l4 - ip, 0));
        sum = net_checksum_add(frame + ip + 12, 8, 0);
    }
    if (f->gso == NET_GSO_UDP) {
        st16be(frame + l4 + 4, (uint16_t)l4_size);
        st16be(frame + l4 + 6, 0);
        sum += 17 + (uint32_t)l4_size;
        sum = net_checksum(frame + l4, l4_size, net_checksum_fold(sum));
        st16be(frame + l4 + 6, (uint16_t)(sum ? sum : 0xFFFF));
        return;
    }
    st32be(frame + l4 + 4, ld32be(frame + l4 + 4) + done);
    if (!last)
        frame[l4 + 13] &= (uint8_t)~0x09; /* FIN and PSH belong to the last segment */
    if (index)
        frame[l4 + 13] &= (uint8_t)~0x80; /* CWR to the first */
    st16be(frame + l4 + 16, 0);
    sum += 6 + (uint32_t)l4_size;
    st16be(frame + l4 + 16, net_checksum(frame + l4, l4_size, net_checksum_fold(sum)));
}

EMU_PRIV int net_frame_cut(struct emu *e, const struct net_frame *f, int (*each)(void *opaque, const struct net_frame *plain), void *opaque)
{
    static const size_t max_headers = 256;
    uint8_t *bytes;
    size_t ip, l4, offset, total;
    uint32_t index = 0;
    int delivered = 0;
    if (f->gso == NET_GSO_NONE) {
        if (f->size > NET_PLAIN_MAX)
            return 0;
        bytes = emu_realloc(e, NULL, f->size);
        if (!bytes)
            return 0;
        net_frame_copy(f, 0, bytes, f->size);
        if (f->needs_csum && (size_t)f->csum_start + f->csum_offset + 2 <= f->size && f->csum_start <= f->size) {
            uint16_t sum = net_checksum(bytes + f->csum_start, f->size - f->csum_start, 0);
            if (!sum && f->csum_offset == 6) /* UDP: zero means none */
                sum = 0xFFFF;
            st16be(bytes + f->csum_start + f->csum_offset, sum);
        }
        delivered = net_frame_flat(bytes, f->size, each, opaque) ? 1 : 0;
        emu_free(e, bytes);
        return delivered;
    }
    if (!f->gso_size || f->header_bytes < 34 || f->header_bytes > max_headers || f->header_bytes >= f->size) /* 34: Ethernet and the shortest IP header */
        return 0;
    bytes = emu_realloc(e, NULL, (size_t)f->header_bytes + f->gso_size);
    if (!bytes)
        return 0;
    net_frame_copy(f, 0, bytes, f->header_bytes);
    ip = ld16be(bytes + 12) == 0x8100 ? 18 : 14;
    l4 = f->gso == NET_GSO_TCP6 ? f->csum_start : ip + (size_t)(bytes[ip] & 15) * 4;
    total = f->size - f->header_bytes;
    if (l4 >= ip + (f->gso == NET_GSO_TCP6 ? 40 : 20) && l4 + (f->gso == NET_GSO_UDP ? 8 : 20) <= f->header_bytes) /* headers of a guest's: they may lie */
        for (offset = 0; offset < total; offset += f->gso_size, index++) {
            size_t payload = EMU_MIN(total - offset, (size_t)f->gso_size);
            net_frame_copy(f, 0, bytes, f->header_bytes);
            net_frame_copy(f, f->header_bytes + offset, bytes + f->header_bytes, payload);
            net_cut_headers(bytes, f, ip, l4, payload, index, (uint32_t)offset, offset + payload == total);
            if (!net_frame_flat(bytes, f->header_bytes + payload, each, opaque))
                break;
            delivered++;
        }
    emu_free(e, bytes);
    return delivered;
}

/* A single frame whose checksum is open, to a port that takes none such: the headers are copied and completed, the payload stays where it is. */
static int net_give_summed(struct net_port *to, const struct net_frame *f)
{
    struct host_iov v[NET_FRAME_MAX_PIECES];
    uint8_t head[256];
    struct net_frame plain = *f;
    size_t at = (size_t)f->csum_start + f->csum_offset, skip = f->csum_start;
    uint32_t sum = 0;
    uint16_t filled;
    bool odd = false;
    int i;
    for (i = 0; i < f->count; i++) {
        size_t size = f->pieces[i].size - EMU_MIN(skip, f->pieces[i].size);
        v[i] = f->pieces[i];
        if (size) {
            uint32_t part = net_checksum_fold(net_checksum_add((const uint8_t *)v[i].base + skip, size, 0));
            sum += odd ? (part & 0xFF) << 8 | part >> 8 : part; /* the piece begins in the middle of a 16-bit word */
            odd ^= size & 1;
        }
        skip -= f->pieces[i].size - size;
    }
    filled = (uint16_t)~net_checksum_fold(sum);
    if (!filled && f->csum_offset == 6) /* UDP: zero means none */
        filled = 0xFFFF;
    memcpy(head, v[0].base, v[0].size);
    st16be(head + at, filled);
    v[0].base = head;
    plain.pieces = v;
    plain.needs_csum = false;
    plain.csum_valid = true;
    return to->receive(to, &plain);
}

/* ---- ports ---- */

EMU_PRIV void net_port_register(struct emu *e, struct net_port *p)
{
    struct net_port **end = &e->net_ports;
    p->emu = e;
    while (*end)
        end = &(*end)->next;
    p->next = NULL;
    *end = p;
}

EMU_PRIV void net_port_unregister(struct emu *e, struct net_port *p)
{
    struct net_port **at;
    while (p->filters) {
        struct net_filter *f = p->filters;
        net_filter_detach(f);
        if (f->destroy)
            f->destroy(f);
    }
    if (p->peer) {
        p->peer->peer = NULL;
        p->peer = NULL;
    }
    for (at = &e->net_ports; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            return;
        }
}

EMU_PRIV struct net_port *net_port_find(struct emu *e, const char *name)
{
    struct net_port *p;
    for (p = e->net_ports; p; p = p->next)
        if (!strcmp(p->name, name))
            return p;
    return NULL;
}

EMU_PRIV int net_port_connect(struct net_port *a, struct net_port *b, struct err *err)
{
    if (a->peer || b->peer)
        return err_set(err, EMU_EBUSY, "network backend \"%s\" is connected already", a->peer ? a->name : b->name);
    a->peer = b;
    b->peer = a;
    return 0;
}

EMU_PRIV void net_set_link(struct net_port *p, bool up)
{
    if (p->link_down == !up)
        return;
    p->link_down = !up;
    if (p->link_changed)
        p->link_changed(p);
    if (p->peer && p->peer->link_changed)
        p->peer->link_changed(p->peer);
}

struct net_cut_target {
    struct net_port *port;
    bool took_any, refused;
};

static int net_cut_receive(void *opaque, const struct net_frame *plain)
{
    struct net_cut_target *t = opaque;
    if (!t->port->receive(t->port, plain)) {
        t->refused = true;
        return 0;
    }
    t->took_any = true;
    return 1;
}

/* To a port that can take it as it is, or cut for it. 0: full. A super-frame that was taken in part counts as taken; TCP sends the rest again.
 * One that can't be cut (headers that lie, no memory) is gone: nobody would ever call for it. */
static int net_give(struct net_port *to, const struct net_frame *f)
{
    struct net_cut_target target;
    int cut;
    if (!to->receive)
        return 1;
    if (to->can_receive && !to->can_receive(to))
        return 0;
    if ((f->gso == NET_GSO_NONE || to->takes_gso) && (!f->needs_csum || to->takes_csum))
        cut = to->receive(to, f);
    else if (f->gso == NET_GSO_NONE && f->count <= NET_FRAME_MAX_PIECES && f->pieces[0].size <= 256 && (size_t)f->csum_start + f->csum_offset + 2 <= f->pieces[0].size)
        cut = net_give_summed(to, f);
    else {
        target.port = to;
        target.took_any = target.refused = false;
        net_frame_cut(to->emu, f, net_cut_receive, &target);
        cut = target.took_any || !target.refused;
    }
    if (cut) {
        to->frames_in++;
        to->bytes_in += f->size;
    }
    return cut;
}

static bool net_filtered(struct net_filter *filter, enum net_direction d, const struct net_frame *f)
{
    for (; filter; filter = filter->next)
        if (filter->frame(filter, d, f))
            return true;
    return false;
}

EMU_PRIV int net_send(struct net_port *from, const struct net_frame *f)
{
    struct net_port *to = from->peer;
    if (!to || from->link_down || to->link_down) {
        from->drops_in++;
        return 1;
    }
    if ((from->filters || to->filters)) {
        if (to->can_receive && !to->can_receive(to)) /* a filter must not see a frame twice */
            return 0;
        if (net_filtered(from->filters, NET_TO_PEER, f) || net_filtered(to->filters, NET_FROM_PEER, f))
            return 1;
    }
    return net_give(to, f);
}

EMU_PRIV void net_deliver(struct net_filter *from, enum net_direction d, const struct net_frame *f)
{
    struct net_port *port = from->port, *to = d == NET_TO_PEER ? port->peer : port;
    if (!to || to->link_down) {
        port->drops_in++;
        return;
    }
    if (net_filtered(from->next, d, f) || (d == NET_TO_PEER && net_filtered(to->filters, NET_FROM_PEER, f)))
        return;
    if (!net_give(to, f))
        port->drops_in++;
}

EMU_PRIV bool net_can_send(struct net_port *from)
{
    struct net_port *to = from->peer;
    return !to || from->link_down || to->link_down || !to->can_receive || to->can_receive(to);
}

EMU_PRIV void net_kick_peer(struct net_port *p)
{
    if (p->peer && p->peer->kick)
        p->peer->kick(p->peer);
}

EMU_PRIV void net_filter_attach(struct net_port *p, struct net_filter *f)
{
    struct net_filter **end = &p->filters;
    while (*end)
        end = &(*end)->next;
    f->port = p;
    f->next = NULL;
    *end = f;
}

EMU_PRIV void net_filter_detach(struct net_filter *f)
{
    struct net_filter **at;
    for (at = &f->port->filters; *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            return;
        }
}

/* ---- hubs ---- */

enum { HUB_DEPTH = 4 };
struct hub_port {
    struct net_port port;
    uint64_t hub;
    unsigned depth; /* calls of this port under way: an answer may come before its question is through; more is a loop of hubs (invariant 4) */
};

static struct hub_port *hub_next(struct hub_port *self, struct net_port *after)
{
    struct net_port *p = after ? after->next : self->port.emu->net_ports;
    for (; p; p = p->next)
        if (p != &self->port && !strcmp(p->model, "hubport") && ((struct hub_port *)p->opaque)->hub == self->hub && p->peer)
            return p->opaque;
    return NULL;
}

/* Another port of the hub exists beside the first: then nobody waits for the slowest. */
static bool hub_is_pair(struct hub_port *self)
{
    struct hub_port *first = hub_next(self, NULL);
    return first && !hub_next(self, &first->port);
}

static bool hub_can_receive(struct net_port *p)
{
    struct hub_port *self = p->opaque;
    bool can = true;
    if (self->depth < HUB_DEPTH && hub_is_pair(self)) {
        self->depth++;
        can = net_can_send(&hub_next(self, NULL)->port);
        self->depth--;
    }
    return can;
}

static int hub_receive(struct net_port *p, const struct net_frame *f)
{
    struct hub_port *self = p->opaque, *other;
    int taken = 1;
    if (self->depth == HUB_DEPTH) {
        p->drops_in++;
        return 1;
    }
    self->depth++;
    if (hub_is_pair(self))
        taken = net_send(&hub_next(self, NULL)->port, f);
    else
        for (other = hub_next(self, NULL); other; other = hub_next(self, &other->port))
            if (!net_send(&other->port, f))
                other->port.drops_in++;
    self->depth--;
    return taken;
}

/* The receiver behind this port has room again: its senders are behind all the others. */
static void hub_kick(struct net_port *p)
{
    struct hub_port *self = p->opaque, *other;
    if (self->depth == HUB_DEPTH)
        return;
    self->depth++;
    for (other = hub_next(self, NULL); other; other = hub_next(self, &other->port))
        net_kick_peer(&other->port);
    self->depth--;
}

static void hub_destroy(struct net_port *p)
{
    struct emu *e = p->emu;
    net_port_unregister(e, p);
    emu_free(e, p->opaque);
}

static struct hub_port *hub_port_create(struct emu *e, uint64_t hub, const char *id, struct err *err)
{
    struct hub_port *h = emu_alloc(e, sizeof *h);
    if (!h) {
        err_set(err, EMU_ENOMEM, "out of memory");
        return NULL;
    }
    h->hub = hub;
    snprintf(h->port.name, sizeof h->port.name, "%s", id);
    snprintf(h->port.model, sizeof h->port.model, "hubport");
    h->port.opaque = h;
    h->port.can_receive = hub_can_receive;
    h->port.receive = hub_receive;
    h->port.kick = hub_kick;
    h->port.destroy = hub_destroy;
    /* each outgoing port cuts for itself what its peer can't take */
    h->port.takes_gso = h->port.takes_csum = true;
    h->port.max_frame = NET_PLAIN_MAX;
    net_port_register(e, &h->port);
    return h;
}

EMU_PRIV int netdev_hubport_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    uint64_t hub = 0;
    const char *netdev = options_get(opts, "netdev");
    struct net_port *peer = NULL;
    struct hub_port *h;
    if (!options_get(opts, "hubid"))
        return err_set(err, EMU_EINVAL, "%s: needs hubid=NUMBER", opts->origin);
    if (options_u64(opts, "hubid", 0, INT32_MAX, &hub, err))
        return EMU_EINVAL;
    if (netdev && !(peer = net_port_find(e, netdev)))
        return err_set(err, EMU_ENOENT, "%s: there is no -netdev with id=%s before it", opts->origin, netdev);
    h = hub_port_create(e, hub, id, err);
    if (!h)
        return EMU_ENOMEM;
    *out = &h->port;
    return peer ? net_port_connect(&h->port, peer, err) : 0;
}

/* ---- the command line ---- */

static const struct netdev_class netdev_classes[] = {
    { "user", "our own NAT", netdev_user_create },
    { "tap", "a tap interface of the host", netdev_tap_create },
    { "bridge", "a tap on a bridge of the host", netdev_bridge_create },
    { "socket", "frames over TCP or UDP, old style", netdev_socket_create },
    { "stream", "frames over a stream socket", netdev_stream_create },
    { "dgram", "frames over datagrams", netdev_dgram_create },
    { "hubport", "a port of a hub", netdev_hubport_create },
    { "embed", "the embedding program's own", netdev_embed_create },
};

static int netdev_create(struct emu *e, const char *type, const char *id, struct options *opts, struct net_port **out, struct err *err)
{
    size_t i;
    int r;
    *out = NULL;
    if (net_port_find(e, id))
        return err_set(err, EMU_EEXIST, "%s: there is a network backend with id %s already", opts->origin, id);
    for (i = 0; i < EMU_ARRAY_LEN(netdev_classes); i++)
        if (!strcmp(netdev_classes[i].type, type)) {
            r = netdev_classes[i].create(e, id, opts, out, err);
            if (!r)
                r = options_check_used(opts, err);
            if (r && *out) {
                (*out)->destroy(*out);
                *out = NULL;
            }
            return r;
        }
    if (!strcmp(type, "vde") || !strcmp(type, "l2tpv3") || !strcmp(type, "vhost-user") || !strcmp(type, "vhost-vdpa") || !strcmp(type, "netmap") || !strcmp(type, "passt"))
        return err_set(err, EMU_ENOTSUP, "%s: type %s is not supported yet", opts->origin, type);
    return err_set(err, EMU_EINVAL, "%s: unknown type \"%s\"; user, tap, bridge, socket, stream, dgram and hubport are known", opts->origin, type);
}

EMU_PRIV int net_netdev_add(struct emu *e, struct options *opts, struct err *err)
{
    const char *type = options_get(opts, "type"), *id = options_get(opts, "id");
    struct net_port *port;
    if (!type || !id)
        return err_set(err, EMU_EINVAL, "%s: needs a type and id=NAME", opts->origin);
    return netdev_create(e, type, id, opts, &port, err);
}

EMU_PRIV int mac_parse(const char *text, uint8_t mac[6])
{
    unsigned i, digit[2];
    char separator = text[0] && text[1] ? text[2] : 0;
    if (separator != ':' && separator != '-')
        return EMU_EINVAL;
    for (i = 0; i < 6; i++, text += 3) {
        unsigned k;
        for (k = 0; k < 2; k++) {
            const char *hex = "0123456789abcdef", *at = text[k] ? strchr(hex, text[k] >= 'A' && text[k] <= 'F' ? text[k] | 0x20 : text[k]) : NULL;
            if (!at)
                return EMU_EINVAL;
            digit[k] = (unsigned)(at - hex);
        }
        mac[i] = (uint8_t)(digit[0] << 4 | digit[1]);
        if (text[2] != (i < 5 ? separator : 0))
            return EMU_EINVAL;
    }
    return mac[0] & 1 ? EMU_EINVAL : 0;
}

static int net_mac_bad(const struct options *opts, const char *key, const char *text, struct err *err)
{
    return err_set(err, EMU_EINVAL, "%s: %s=%s is not a station's address (like 52:54:00:12:34:56, first byte even)", opts->origin, key, text);
}

EMU_PRIV int net_mac_option(struct emu *e, struct options *opts, uint8_t mac[6], struct err *err)
{
    static const uint8_t first[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
    const char *text = options_get(opts, "mac");
    if (!text) {
        memcpy(mac, first, 6);
        mac[5] = (uint8_t)(mac[5] + e->nic_count++);
        return 0;
    }
    return mac_parse(text, mac) ? net_mac_bad(opts, "mac", text, err) : 0;
}

EMU_PRIV int net_nic_attach(struct emu *e, struct net_port *nic, struct options *opts, struct err *err)
{
    const char *netdev = options_get(opts, "netdev");
    struct net_port *peer;
    if (!netdev)
        return 0;
    peer = net_port_find(e, netdev);
    if (!peer)
        return err_set(err, EMU_ENOENT, "%s: there is no -netdev with id=%s", opts->origin, netdev);
    return net_port_connect(nic, peer, err);
}

EMU_PRIV void net_nic_register(struct emu *e, struct net_port *nic, const char *class_name, const char *id)
{
    unsigned n = 0;
    if (id)
        snprintf(nic->name, sizeof nic->name, "%s", id);
    else
        do
            snprintf(nic->name, sizeof nic->name, "%.40s.%u", class_name, n++);
        while (net_port_find(e, nic->name));
    snprintf(nic->model, sizeof nic->model, "nic");
    net_port_register(e, nic);
}

/* Asks the board for a NIC on the given backend. */
static int net_add_nic(struct emu *e, struct options *line, const char *netdev, struct err *err)
{
    const char *model = line ? options_get(line, "model") : NULL, *mac = line ? options_get(line, "mac") : NULL, *key = "mac";
    const char *name = line ? options_get(line, "name") : NULL, *addr = line ? options_get(line, "addr") : NULL;
    struct net_nic *nic, **end = &e->nics;
    uint8_t checked[6];
    if (line && !mac && !strncmp(line->origin, "-net ", 5) && (mac = options_get(line, "macaddr"))) /* -net's own word for it */
        key = "macaddr";
    if (mac && mac_parse(mac, checked)) /* here the line is known that it came from */
        return net_mac_bad(line, key, mac, err);
    nic = emu_alloc(e, sizeof *nic);
    if (!nic)
        return err_set(err, EMU_ENOMEM, "out of memory");
    snprintf(nic->model, sizeof nic->model, "%s", model ? model : "e1000");
    snprintf(nic->netdev, sizeof nic->netdev, "%s", netdev ? netdev : "");
    snprintf(nic->mac, sizeof nic->mac, "%s", mac ? mac : "");
    snprintf(nic->id, sizeof nic->id, "%s", name ? name : "");
    snprintf(nic->addr, sizeof nic->addr, "%s", addr ? addr : "");
    while (*end)
        end = &(*end)->next;
    *end = nic;
    return 0;
}

/* -net and the members of hub 0. */
static int net_hub_member(struct emu *e, struct options *opts, const char *type, unsigned n, struct err *err)
{
    char hub_id[32], id[32];
    struct hub_port *h;
    struct net_port *port;
    const char *name;
    snprintf(hub_id, sizeof hub_id, "hub0port%u", n);
    if (!strcmp(type, "nic") && opts && (name = options_get(opts, "netdev"))) { /* -net nic,netdev=: on that backend, not on the hub */
        if (!net_port_find(e, name))
            return err_set(err, EMU_ENOENT, "%s: there is no -netdev with id=%s", opts->origin, name);
        return net_add_nic(e, opts, name, err);
    }
    h = hub_port_create(e, 0, hub_id, err);
    if (!h)
        return EMU_ENOMEM;
    if (!strcmp(type, "nic"))
        return net_add_nic(e, opts, hub_id, err);
    name = opts ? options_get(opts, "name") : NULL;
    snprintf(id, sizeof id, "#net%03u", n);
    if (opts) {
        int r = netdev_create(e, type, name ? name : id, opts, &port, err);
        if (r)
            return r;
    } else {
        struct options none;
        int r = options_parse(&none, e, "-net", "user", "type", err);
        if (r)
            return r;
        options_get(&none, "type");
        r = netdev_create(e, type, id, &none, &port, err);
        options_free(&none);
        if (r)
            return r;
    }
    return net_port_connect(&h->port, port, err);
}

static int net_nic_line(struct emu *e, struct options *opts, const char *type, unsigned n, struct err *err)
{
    char id[32];
    const char *given = options_get(opts, "id");
    struct net_port *port;
    int r;
    if (!strcmp(type, "nic"))
        return err_set(err, EMU_EINVAL, "%s: -nic takes a backend (like -nic user)", opts->origin);
    options_get(opts, "model"), options_get(opts, "mac"), options_get(opts, "addr");
    snprintf(id, sizeof id, "#nic%03u", n);
    r = netdev_create(e, type, given ? given : id, opts, &port, err);
    return r ? r : net_add_nic(e, opts, given ? given : id, err);
}

EMU_PRIV int net_create(struct emu *e, struct err *err)
{
    struct config *c = &e->config;
    struct config_line *line;
    unsigned hub = 0, nic = 0;
    bool any_nic = false, any_net = false, none = false;
    int r;
    for (line = c->netdevs; line; line = line->next)
        if ((r = net_netdev_add(e, &line->opts, err)))
            return r;
    for (line = c->nics; line; line = line->next) {
        const char *type = options_get(&line->opts, "type");
        bool is_net = !strncmp(line->opts.origin, "-net ", 5);
        if (!type)
            return err_set(err, EMU_EINVAL, "%s: needs a type", line->opts.origin);
        if (!strcmp(type, "none")) {
            none = true;
            if ((r = options_check_used(&line->opts, err)))
                return r;
            continue;
        }
        if (is_net) {
            any_net = true;
            any_nic |= !strcmp(type, "nic");
            r = net_hub_member(e, &line->opts, type, hub++, err);
        } else {
            r = net_nic_line(e, &line->opts, type, nic++, err);
        }
        if (!r)
            r = options_check_used(&line->opts, err);
        if (r)
            return r;
    }
    /* No network option at all is -net nic -net user; -net user alone gets the card too. */
    if (!c->nics && !c->netdevs && !c->no_defaults && !none) {
        if ((r = net_hub_member(e, NULL, "user", hub++, err)) || (r = net_hub_member(e, NULL, "nic", hub++, err)))
            return r;
    } else if (any_net && !any_nic) {
        if ((r = net_hub_member(e, NULL, "nic", hub++, err)))
            return r;
    }
    return 0;
}

EMU_PRIV int net_create_filters(struct emu *e, struct err *err)
{
    struct config_line *line;
    int r;
    for (line = e->config.objects; line; line = line->next) {
        const char *type = options_get(&line->opts, "qom-type");
        if (type && !strcmp(type, "filter-dump"))
            r = filter_dump_create(e, &line->opts, err);
        else if (type && !strcmp(type, "filter-impair"))
            r = filter_impair_create(e, &line->opts, err);
        else if (type && (!strncmp(type, "memory-backend-", 15) || !strncmp(type, "rng-", 4) || !strcmp(type, "iothread") || !strcmp(type, "secret")))
            r = err_set(err, EMU_ENOTSUP, "%s: not supported yet", line->opts.origin);
        else
            r = err_set(err, EMU_EINVAL, "%s: unknown object; filter-dump and filter-impair are known", line->opts.origin);
        if (!r)
            r = options_check_used(&line->opts, err);
        if (r)
            return r;
    }
    return 0;
}

EMU_PRIV void net_destroy(struct emu *e)
{
    while (e->nics) {
        struct net_nic *n = e->nics;
        e->nics = n->next;
        emu_free(e, n);
    }
    while (e->net_ports) {
        struct net_port *p = e->net_ports;
        if (p->destroy)
            p->destroy(p);
        else
            net_port_unregister(e, p);
    }
}

EMU_PRIV void net_print_info(struct emu *e, struct buf *out)
{
    struct net_port *p;
    for (p = e->net_ports; p; p = p->next) {
        buf_printf(out, "%s: type=%s%s", p->name, p->model, p->link_down ? ",link=down" : "");
        if (p->peer)
            buf_printf(out, ",peer=%s", p->peer->name);
        buf_printf(out, ",frames=%" PRIu64 ",bytes=%" PRIu64 ",drops=%" PRIu64, p->frames_in, p->bytes_in, p->drops_in);
        if (p->info) {
            buf_printf(out, ",");
            p->info(p, out);
        }
        buf_printf(out, "\n");
    }
}
#undef NET_PLAIN_MAX
