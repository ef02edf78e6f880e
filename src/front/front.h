/* front/front.h - what command line, monitor, terminal, debugger stub and public API share.
 *
 * Contract   Only front/ includes this. struct front hangs on emu->front; the parts below own their pointers in it.
 */
#ifndef EMU_FRONT_H
#define EMU_FRONT_H

enum front_display { DISPLAY_DEFAULT, DISPLAY_NONE, DISPLAY_CURSES };

struct provided { /* a disk, serial line or network of the embedding program */
    char *name;
    enum { PROVIDED_DISK, PROVIDED_SERIAL, PROVIDED_NET } kind;
    struct emu_disk_ops disk;
    void (*output)(void *opaque, const void *bytes, size_t count);
    void *opaque;
    struct chr *chr;       /* PROVIDED_SERIAL: once attached */
    struct net_port *port; /* PROVIDED_NET */
    struct provided *next;
};

struct front {
    struct emu *emu;
    bool program;    /* started as the emu program: terminal, signals and exit belong to us */
    bool configured;
    struct provided *provided;
    struct emu_wait *waits;
    size_t wait_capacity;

    /* command line */
    struct config_line *chardevs, *mons;
    char *monitor[4]; /* -monitor specs */
    unsigned monitor_count;
    bool monitor_given, serial_given, nographic;
    unsigned serial_count, parallel_count;
    char *gdb; /* -gdb device, or NULL */
    char *debugcon;
    enum front_display display;
    char *pidfile, *log_path;
    FILE *log_file;
    bool daemonize;
    int echr; /* escape character of the terminal multiplexer, Ctrl-A */

    /* parts */
    struct monitor *monitors;
    struct mon_release *held_keys;
    struct gdbstub *gdbstub;
    struct curses *curses;
    struct silence *silence;
    void (*hook_log)(void *opaque, const char *line);
    void *(*hook_allocate)(void *opaque, void *old, size_t bytes);
    void *hook_opaque;
};
EMU_INLINE struct front *front_of(const struct emu *e) { return (struct front *)e->front; }

/* ---- options.c ---- */
/* Reads the command line into emu->config and struct front. 0, EMU_E..., or 1: something was printed (help, version), end with status 0. */
EMU_PRIV int front_parse(struct emu *e, int argc, const char *const *argv, struct err *err);
EMU_PRIV void front_free_config(struct emu *e);
EMU_PRIV struct config_line *front_add_line(struct emu *e, struct config_line **list, const char *origin, const char *text, const char *implied, struct err *err);

/* ---- monitor.c ---- */
EMU_PRIV int monitor_create(struct emu *e, struct chr *chr, struct err *err); /* an interactive monitor on that line */
EMU_PRIV void monitor_command(struct emu *e, const char *line, struct buf *out); /* runs one line */
EMU_PRIV void monitor_destroy_all(struct emu *e);
EMU_PRIV int front_key_number(const char *name); /* -1: unknown */

/* ---- gdb.c ---- */
EMU_PRIV int gdb_create(struct emu *e, const char *device, struct err *err); /* tcp::1234, unix:path, stdio */
EMU_PRIV void gdb_destroy(struct emu *e);

/* ---- curses.c: -display curses ---- */
EMU_PRIV int curses_create(struct emu *e, struct err *err);
EMU_PRIV void curses_destroy(struct emu *e);
EMU_PRIV void curses_note(struct emu *e, const char *text); /* a notice for the person: shown when the terminal is free */
EMU_PRIV void front_put_cp437(struct buf *b, unsigned ch);  /* a character of the text screen, in UTF-8 */
/* One line on the terminal when the screen changes but the serial line stays silent. */
EMU_PRIV int silence_create(struct emu *e);
EMU_PRIV void silence_destroy(struct emu *e);

/* ---- png.c ---- */
EMU_PRIV int screen_save(struct emu *e, const char *path, const char *format, struct err *err); /* "ppm", "png"; NULL: by the name's end */
EMU_PRIV int screen_text_print(struct emu *e, struct buf *out); /* the text screen as lines of UTF-8; EMU_ENOENT in a graphics mode */

/* ---- api.c ---- */
EMU_PRIV struct provided *front_provided(struct emu *e, int kind, const char *name);
EMU_PRIV int front_configure(struct emu *e, int argc, const char *const *argv, struct err *err); /* as front_parse() */

#endif
