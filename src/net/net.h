/* net/net.h - what the network's files share: backends, filters, hubs, and the packet helpers.
 *
 * Contract   Only net/ includes this (and board.c for net_create()). NIC devices know struct net_port of machine.h alone.
 */
#ifndef EMU_NET_H
#define EMU_NET_H

/* ---- link.c: backends by name, hubs, NICs of the command line ---- */
struct netdev_class { /* one type= of -netdev */
    const char *type;
    const char *help;
    /* Creates and registers a port; options are all read (unused ones are an error of the caller). */
    int (*create)(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);
};
EMU_PRIV int netdev_user_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);   /* nat.c */
EMU_PRIV int netdev_tap_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);    /* tap.c */
EMU_PRIV int netdev_bridge_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* tap.c */
EMU_PRIV int netdev_socket_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* socket.c */
EMU_PRIV int netdev_stream_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* socket.c */
EMU_PRIV int netdev_dgram_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);  /* socket.c */
EMU_PRIV int netdev_hubport_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err); /* link.c */
EMU_PRIV int netdev_embed_create(struct emu *e, const char *id, struct options *opts, struct net_port **out, struct err *err);  /* front/api.c */

/* ---- nat.c: what the monitor asks of -netdev user; netdev NULL: the first ---- */
EMU_PRIV int nat_hostfwd_add(struct emu *e, const char *netdev, const char *rule, struct err *err);
EMU_PRIV int nat_hostfwd_remove(struct emu *e, const char *netdev, const char *rule, struct err *err); /* rule: [tcp|udp]:[hostaddr]:hostport */
EMU_PRIV void nat_print_info(struct emu *e, struct buf *out); /* info usernet */

/* ---- filters: look at, or hold, the frames of one port ---- */
enum net_direction { NET_TO_PEER, NET_FROM_PEER }; /* seen from the port the filter is on */
struct net_filter {
    char id[64];
    struct net_port *port;
    /* 1: taken over (held or dropped), 0: pass it on. The frame may be a super-frame. */
    int (*frame)(struct net_filter *f, enum net_direction d, const struct net_frame *frame);
    void (*destroy)(struct net_filter *f);
    struct net_filter *next;
};
EMU_PRIV int filter_dump_create(struct emu *e, struct options *opts, struct err *err);   /* dump.c */
EMU_PRIV int filter_impair_create(struct emu *e, struct options *opts, struct err *err); /* impair.c */
EMU_PRIV void net_filter_attach(struct net_port *p, struct net_filter *f);
EMU_PRIV void net_filter_detach(struct net_filter *f);
/* What a holding filter calls, at once or later: the frame goes on at the filter behind it. Drops (and counts) if the receiver is full. */
EMU_PRIV void net_deliver(struct net_filter *from, enum net_direction d, const struct net_frame *frame);

/* ---- super-frames ---- */
EMU_PRIV size_t net_frame_copy(const struct net_frame *f, size_t offset, void *buf, size_t size); /* bytes copied */
/* Cuts a super-frame into plain frames with right headers and checksums, or fills in the checksum of a single one; calls each for every
 * frame (one flat piece). max_payload: of each cut TCP segment (f->gso_size normally). Stops early if each returns 0; returns frames delivered. */
EMU_PRIV int net_frame_cut(struct emu *e, const struct net_frame *f, int (*each)(void *opaque, const struct net_frame *plain), void *opaque);
EMU_PRIV uint16_t net_checksum(const void *data, size_t size, uint32_t start); /* RFC 1071: folded, complemented */
EMU_PRIV uint32_t net_checksum_add(const void *data, size_t size, uint32_t sum); /* running 32-bit sum (even offset) */
EMU_PRIV uint16_t net_checksum_fold(uint32_t sum);

EMU_PRIV int mac_parse(const char *text, uint8_t mac[6]); /* 0, or EMU_EINVAL; multicast is refused */

#endif
