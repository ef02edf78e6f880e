/* front/char.h - what the character back ends share with one another. Only front/char*.c include it. */
#ifndef EMU_CHAR_H
#define EMU_CHAR_H

/* front/chardev.c */
EMU_PRIV size_t char_room(struct chr *c);                                     /* bytes the front end takes now; 0 without one */
EMU_PRIV void char_deliver(struct chr *c, const uint8_t *bytes, size_t size);
EMU_PRIV void char_set_open(struct chr *c, bool open);                        /* and tells the front end when it changed */

/* front/char_stream.c: everything behind a descriptor. backend: stdio, file, pipe, pty, serial, socket, udp. Sets c->ops and c->backend. */
EMU_PRIV int char_stream_create(struct chr *c, const char *backend, struct options *o, struct err *err);
EMU_PRIV bool char_is_stdio(const struct chr *c);

#endif
