/* front/curses.c - the VGA text screen in the terminal, and the line that points out a silent serial port.
 *
 * Models     ECMA-48 (ANSI) sequences that every terminal emulator knows: cursor position, SGR colours, clear; xterm's alternate screen.
 * Contract   -display curses creates it; it owns the terminal then. silence_create() belongs to a program whose terminal shows the serial port.
 * Theory     A timer in host time would wake an idle guest for nothing, so a poll hook looks, at most every CURSES_REFRESH_NS, whether the display
 *            changed, and sends the cells that differ from what the terminal shows. A terminal with fewer rows than the guest shows those
 *            around the cursor. Keys come as bytes; each becomes the key presses that make that character on a US keyboard, paced so that
 *            the guest's keyboard queue keeps up.
 *            Ctrl-A c leaves the alternate screen for the monitor, a plain serial line of the kind that embedding programs provide
 *            (CURSES_LINE), and comes back. What emu has to say meanwhile waits in `notes`.
 *
 *            guest's screen --Ctrl-A c--> monitor --Ctrl-A c--> guest's screen        (curses_show_monitor)
 * Invariants 1. shown[] is what the terminal shows, or CURSES_UNKNOWN.
 *            2. The terminal is as it was after every exit (host_terminal_raw does the modes, curses_destroy the screen).
 *            3. Bytes that the terminal does not take at once wait in `out`; nothing is drawn before they are gone.
 * Missing    Graphics modes: the screen says so and names screendump.
 */
#include "../machine.h"
#include "front.h"

#define CURSES_REFRESH_NS (30 * NS_PER_MS)
#define CURSES_MAX_COLUMNS 200
#define CURSES_MAX_ROWS 100
#define CURSES_UNKNOWN 0xFF /* memset value: no cell of 16 bits looks so */
#define CURSES_KEYS 256
#define CURSES_KEY_NS (12 * NS_PER_MS)
#define CURSES_LINE "curses-monitor"
#define CURSES_NOTES_MAX 8192

struct curses {
    struct emu *emu;
    host_fd terminal; /* for output; own_terminal: a non-blocking description of our own */
    bool own_terminal;
    struct poll_hook hook;
    struct watch input;
    struct timer key_timer, wake_timer;
    struct screen_text text;
    uint32_t shown[CURSES_MAX_COLUMNS * CURSES_MAX_ROWS];
    int columns, rows;                   /* of the guest */
    int terminal_columns, terminal_rows; /* as last asked */
    unsigned returns;                    /* host_terminal_returns(), as last asked */
    int top;                             /* the guest's row in the terminal's first */
    bool graphics_said, in_monitor;
    struct chr *monitor; /* NULL with -monitor none */
    int64_t next_ns;
    uint64_t seen_change;
    bool drawn;
    struct buf out, notes;
    /* queue of key events: key number, 0x100 = release */
    uint16_t keys[CURSES_KEYS];
    unsigned key_head, key_count;
    uint8_t sequence[8];
    unsigned sequence_length;
    bool escaped; /* Ctrl-A was pressed */
};

/* Unicode of the CP437 characters outside ASCII that text screens draw with; 0: '?'. */
static const uint16_t curses_cp437_high[128] = {
    0x00C7, 0x00FC, 0x00E9, 0x00E2, 0x00E4, 0x00E0, 0x00E5, 0x00E7, 0x00EA, 0x00EB, 0x00E8, 0x00EF, 0x00EE, 0x00EC, 0x00C4, 0x00C5,
    0x00C9, 0x00E6, 0x00C6, 0x00F4, 0x00F6, 0x00F2, 0x00FB, 0x00F9, 0x00FF, 0x00D6, 0x00DC, 0x00A2, 0x00A3, 0x00A5, 0x20A7, 0x0192,
    0x00E1, 0x00ED, 0x00F3, 0x00FA, 0x00F1, 0x00D1, 0x00AA, 0x00BA, 0x00BF, 0x2310, 0x00AC, 0x00BD, 0x00BC, 0x00A1, 0x00AB, 0x00BB,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255D, 0x255C, 0x255B, 0x2510,
    0x2514, 0x2534, 0x252C, 0x251C, 0x2500, 0x253C, 0x255E, 0x255F, 0x255A, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256C, 0x2567,
    0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256B, 0x256A, 0x2518, 0x250C, 0x2588, 0x2584, 0x258C, 0x2590, 0x2580,
    0x03B1, 0x00DF, 0x0393, 0x03C0, 0x03A3, 0x03C3, 0x00B5, 0x03C4, 0x03A6, 0x0398, 0x03A9, 0x03B4, 0x221E, 0x03C6, 0x03B5, 0x2229,
    0x2261, 0x00B1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00F7, 0x2248, 0x00B0, 0x2219, 0x00B7, 0x221A, 0x207F, 0x00B2, 0x25A0, 0x00A0,
};
static const uint16_t curses_cp437_low[32] = {
    0x0020, 0x263A, 0x263B, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25D8, 0x25CB, 0x25D9, 0x2642, 0x2640, 0x266A, 0x266B, 0x263C,
    0x25BA, 0x25C4, 0x2195, 0x203C, 0x00B6, 0x00A7, 0x25AC, 0x21A8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221F, 0x2194, 0x25B2, 0x25BC,
};

EMU_PRIV void front_put_cp437(struct buf *b, unsigned ch)
{
    unsigned u = ch < 32 ? curses_cp437_low[ch] : ch < 127 ? ch : ch == 127 ? 0x2302 : curses_cp437_high[ch - 128];
    uint8_t bytes[3];
    if (u < 0x80) {
        bytes[0] = (uint8_t)u;
        buf_add(b, bytes, 1);
    } else if (u < 0x800) {
        bytes[0] = (uint8_t)(0xC0 | u >> 6);
        bytes[1] = (uint8_t)(0x80 | (u & 63));
        buf_add(b, bytes, 2);
    } else {
        bytes[0] = (uint8_t)(0xE0 | u >> 12);
        bytes[1] = (uint8_t)(0x80 | ((u >> 6) & 63));
        bytes[2] = (uint8_t)(0x80 | (u & 63));
        buf_add(b, bytes, 3);
    }
}

static void curses_put_attribute(struct buf *b, unsigned attribute)
{
    static const uint8_t ansi[8] = { 0, 4, 2, 6, 1, 5, 3, 7 }; /* VGA's blue-green-red to ANSI's red-green-blue */
    buf_printf(b, "\033[0;%u;%um", (attribute & 8 ? 90u : 30u) + ansi[attribute & 7], 40u + ansi[(attribute >> 4) & 7]);
}

static void curses_flush(struct curses *s)
{
    while (s->out.size) {
        int n = host_fd_write(s->terminal, s->out.data, s->out.size);
        if (n == EMU_EAGAIN)
            break;
        if (n <= 0) { /* the terminal is gone */
            s->out.size = 0;
            break;
        }
        memmove(s->out.data, s->out.data + n, s->out.size - (size_t)n);
        s->out.size -= (size_t)n;
    }
}

static void curses_redraw(struct curses *s)
{
    memset(s->shown, CURSES_UNKNOWN, sizeof s->shown);
    s->graphics_said = s->drawn = false;
    buf_printf(&s->out, "\033[0m\033[2J\033[H");
}

static void curses_draw_cells(struct curses *s, const struct screen_text *t)
{
    int row, column, x = -1, y = -1;
    unsigned attribute = 0x100;
    for (row = 0; row < s->terminal_rows && row + s->top < t->rows && row < CURSES_MAX_ROWS; row++)
        for (column = 0; column < t->columns && column < CURSES_MAX_COLUMNS && column < s->terminal_columns; column++) {
            uint32_t cell = t->cells[(row + s->top) * t->columns + column], *was = &s->shown[row * CURSES_MAX_COLUMNS + column];
            if (cell == *was)
                continue;
            *was = cell;
            if (x != column || y != row)
                buf_printf(&s->out, "\033[%d;%dH", row + 1, column + 1);
            if (attribute != cell >> 8) {
                attribute = cell >> 8;
                curses_put_attribute(&s->out, attribute);
            }
            front_put_cp437(&s->out, cell & 0xFF);
            x = column + 1;
            y = row;
        }
}

static void curses_draw(struct curses *s)
{
    struct screen_text *t = &s->text;
    int top = 0;
    if (!s->emu->display->text(s->emu->display->opaque, t)) {
        if (!s->graphics_said) {
            struct screen picture = { 0 };
            s->emu->display->update(s->emu->display->opaque, &picture);
            curses_redraw(s);
            buf_printf(&s->out, "The guest is in a graphics mode (%dx%d). %s", picture.width, picture.height,
                       s->monitor ? "Ctrl-A c, then `screendump FILE.png`, saves it." : "A monitor's `screendump FILE.png` saves it.");
            s->graphics_said = true;
        }
        return;
    }
    if (s->graphics_said || s->columns != t->columns || s->rows != t->rows) {
        s->columns = t->columns;
        s->rows = t->rows;
        curses_redraw(s);
    }
    if (t->cursor_on && t->cursor_y >= s->terminal_rows && t->cursor_y < t->rows)
        top = t->cursor_y - s->terminal_rows + 1;
    s->top = top;
    curses_draw_cells(s, t);
    if (t->cursor_on && t->cursor_x < t->columns && t->cursor_y < t->rows)
        buf_printf(&s->out, "\033[%d;%dH\033[?25h", t->cursor_y - top + 1, t->cursor_x + 1);
    else
        buf_printf(&s->out, "\033[?25l");
}

static void curses_look(void *opaque)
{
    struct curses *s = opaque;
    int64_t now = host_clock_ns();
    uint64_t change;
    int columns, rows;
    if (now < s->next_ns)
        return;
    s->next_ns = now + CURSES_REFRESH_NS;
    curses_flush(s);
    if (s->in_monitor || s->out.size) /* invariant 3 */
        return;
    if (s->returns != host_terminal_returns()) { /* the shell went back to its own screen */
        s->returns = host_terminal_returns();
        buf_printf(&s->out, "\033[?1049h");
        curses_redraw(s);
    }
    host_terminal_size(&columns, &rows);
    if (columns != s->terminal_columns || rows != s->terminal_rows) {
        s->terminal_columns = columns;
        s->terminal_rows = rows;
        curses_redraw(s);
    }
    change = s->emu->display->change_count(s->emu->display->opaque);
    if (change == s->seen_change && s->drawn)
        return;
    s->seen_change = change;
    curses_draw(s);
    s->drawn = true;
    curses_flush(s);
}

/* The run loop of an idle guest polls seldom: four looks a second draw what changed just before it fell asleep. */
static void curses_wake(void *opaque)
{
    struct curses *s = opaque;
    curses_look(s);
    timer_arm(&s->wake_timer, emu_now_ns(s->emu) + 250 * NS_PER_MS);
}

/* ---- keys ---- */

static void curses_next_key(void *opaque)
{
    struct curses *s = opaque;
    uint16_t k;
    if (!s->key_count)
        return;
    k = s->keys[s->key_head];
    s->key_head = (s->key_head + 1) % CURSES_KEYS;
    s->key_count--;
    input_key(s->emu, k & 0xFF, !(k & 0x100));
    if (s->key_count)
        timer_arm(&s->key_timer, emu_now_ns(s->emu) + CURSES_KEY_NS);
}

static void curses_queue(struct curses *s, int key, bool down)
{
    if (key < 0 || s->key_count == CURSES_KEYS)
        return;
    s->keys[(s->key_head + s->key_count++) % CURSES_KEYS] = (uint16_t)(key | (down ? 0 : 0x100));
    if (!timer_armed(&s->key_timer))
        timer_arm(&s->key_timer, emu_now_ns(s->emu));
}

static void curses_press(struct curses *s, const char *modifier, const char *key)
{
    if (s->key_count + 4 > CURSES_KEYS)
        return;
    if (modifier)
        curses_queue(s, front_key_number(modifier), true);
    curses_queue(s, front_key_number(key), true);
    curses_queue(s, front_key_number(key), false);
    if (modifier)
        curses_queue(s, front_key_number(modifier), false);
}

/* The key of a US keyboard that types ch; *shifted tells how. */
static const char *curses_key_of(uint8_t ch, bool *shifted, char single[2])
{
    static const struct {
        char plain, shifted;
        const char *name;
    } keys[] = {
        { '1', '!', "1" }, { '2', '@', "2" }, { '3', '#', "3" }, { '4', '$', "4" }, { '5', '%', "5" }, { '6', '^', "6" }, { '7', '&', "7" }, { '8', '*', "8" },
        { '9', '(', "9" }, { '0', ')', "0" }, { '-', '_', "minus" }, { '=', '+', "equal" }, { '[', '{', "bracket_left" }, { ']', '}', "bracket_right" },
        { ';', ':', "semicolon" }, { '\'', '"', "apostrophe" }, { '`', '~', "grave_accent" }, { '\\', '|', "backslash" }, { ',', '<', "comma" },
        { '.', '>', "dot" }, { '/', '?', "slash" }, { ' ', ' ', "spc" },
    };
    size_t i;
    *shifted = ch >= 'A' && ch <= 'Z';
    if (*shifted || (ch >= 'a' && ch <= 'z')) {
        single[0] = (char)(ch | 0x20);
        single[1] = 0;
        return single;
    }
    for (i = 0; i < EMU_ARRAY_LEN(keys); i++)
        if (ch == (uint8_t)keys[i].plain || ch == (uint8_t)keys[i].shifted) {
            *shifted = ch != (uint8_t)keys[i].plain;
            return keys[i].name;
        }
    return NULL;
}

static void curses_type(struct curses *s, uint8_t ch)
{
    char single[2];
    bool shifted;
    const char *key;
    if (ch == '\r' || ch == '\n') {
        curses_press(s, NULL, "ret");
    } else if (ch == 8 || ch == 127) {
        curses_press(s, NULL, "backspace");
    } else if (ch == '\t') {
        curses_press(s, NULL, "tab");
    } else if (ch == 27) {
        curses_press(s, NULL, "esc");
    } else if (ch < 27 && ch) {
        single[0] = (char)('a' + ch - 1);
        single[1] = 0;
        curses_press(s, "ctrl", single);
    } else if ((key = curses_key_of(ch, &shifted, single))) {
        curses_press(s, shifted ? "shift" : NULL, key);
    }
}

/* ESC [ ... of cursor and function keys. true: the sequence is over. */
static bool curses_sequence(struct curses *s, uint8_t ch)
{
    static const struct {
        const char *sequence, *key;
    } keys[] = {
        { "[A", "up" }, { "[B", "down" }, { "[C", "right" }, { "[D", "left" }, { "[H", "home" }, { "[F", "end" }, { "OH", "home" }, { "OF", "end" },
        { "OA", "up" }, { "OB", "down" }, { "OC", "right" }, { "OD", "left" }, { "[1~", "home" }, { "[2~", "insert" }, { "[3~", "delete" }, { "[4~", "end" },
        { "[5~", "pgup" }, { "[6~", "pgdn" }, { "OP", "f1" }, { "OQ", "f2" }, { "OR", "f3" }, { "OS", "f4" }, { "[11~", "f1" }, { "[12~", "f2" }, { "[13~", "f3" },
        { "[14~", "f4" }, { "[15~", "f5" }, { "[17~", "f6" }, { "[18~", "f7" }, { "[19~", "f8" }, { "[20~", "f9" }, { "[21~", "f10" }, { "[23~", "f11" }, { "[24~", "f12" },
    };
    size_t i;
    s->sequence[s->sequence_length++] = ch;
    s->sequence[s->sequence_length] = 0;
    for (i = 0; i < EMU_ARRAY_LEN(keys); i++)
        if (!strcmp(keys[i].sequence, (char *)s->sequence + 1)) {
            curses_press(s, NULL, keys[i].key);
            return true;
        }
    return s->sequence_length >= 6 || (s->sequence_length > 2 && ((ch >= 'A' && ch <= 'Z') || ch == '~'));
}

/* ---- the monitor's screen ---- */

static void curses_monitor_output(void *opaque, const void *bytes, size_t count)
{
    struct curses *s = opaque;
    if (!s->in_monitor)
        return;
    buf_add(&s->out, bytes, count);
    curses_flush(s);
}

static void curses_say_notes(struct curses *s)
{
    buf_add(&s->out, s->notes.data, s->notes.size);
    s->notes.size = 0;
}

static void curses_show_monitor(struct curses *s, bool show)
{
    s->in_monitor = show;
    if (show) {
        buf_printf(&s->out, "\033[0m\033[?25h\033[?1049l");
        curses_say_notes(s);
    } else {
        buf_printf(&s->out, "\r\n\033[?1049h");
        curses_redraw(s);
    }
    curses_flush(s);
}

EMU_PRIV void curses_note(struct emu *e, const char *text)
{
    struct curses *s = front_of(e)->curses;
    if (s->notes.size < CURSES_NOTES_MAX)
        buf_printf(&s->notes, "emu: %s\r\n", text);
    if (s->in_monitor) {
        curses_say_notes(s);
        curses_flush(s);
    }
}

static void curses_command(struct curses *s, uint8_t ch)
{
    if (ch == 'x') {
        emu_exit_with(s->emu, 0);
    } else if (ch == front_of(s->emu)->echr && !s->in_monitor) {
        curses_type(s, ch);
    } else if (ch == 'c' && s->monitor) {
        curses_show_monitor(s, !s->in_monitor);
        if (s->in_monitor && s->monitor->event)
            s->monitor->event(s->monitor->opaque, CHR_OPENED); /* its prompt */
    } else if (ch == 'l' && !s->in_monitor) {
        curses_redraw(s);
    } else if (ch == 'd') {
        curses_queue(s, front_key_number("ctrl"), true);
        curses_queue(s, front_key_number("alt"), true);
        curses_press(s, NULL, "delete");
        curses_queue(s, front_key_number("alt"), false);
        curses_queue(s, front_key_number("ctrl"), false);
    } else if ((ch == 'h' || ch == '?') && s->monitor) {
        if (!s->in_monitor)
            curses_show_monitor(s, true);
        buf_printf(&s->out, "\r\nCtrl-A h  this help\r\nCtrl-A x  end emu\r\nCtrl-A c  to the monitor and back to the guest's screen\r\n"
                            "Ctrl-A d  send Ctrl-Alt-Delete\r\nCtrl-A l  draw the screen anew\r\nCtrl-A Ctrl-A  the character itself\r\n");
        if (s->monitor->event)
            s->monitor->event(s->monitor->opaque, CHR_OPENED);
    }
}

static void curses_key_byte(struct curses *s, uint8_t ch, bool more)
{
    if (s->sequence_length) {
        if (s->sequence_length == 1 && ch != '[' && ch != 'O') { /* ESC and a character: Alt with it */
            s->sequence_length = 0;
            curses_queue(s, front_key_number("alt"), true);
            curses_type(s, ch);
            curses_queue(s, front_key_number("alt"), false);
        } else if (curses_sequence(s, ch)) {
            s->sequence_length = 0;
        }
    } else if (ch == 27 && more) {
        s->sequence[0] = 27;
        s->sequence_length = 1;
    } else {
        curses_type(s, ch);
    }
}

static void curses_input(void *opaque, unsigned events)
{
    struct curses *s = opaque;
    uint8_t bytes[64];
    int n, i;
    (void)events;
    n = host_fd_read(host_stdin(), bytes, sizeof bytes);
    if (n <= 0) {
        if (n != EMU_EAGAIN)
            watch_want(&s->input, 0); /* the terminal is gone; the guest runs on */
        return;
    }
    for (i = 0; i < n; i++) {
        if (s->escaped) {
            s->escaped = false;
            curses_command(s, bytes[i]);
        } else if (bytes[i] == front_of(s->emu)->echr && !s->sequence_length) {
            s->escaped = true;
        } else if (s->in_monitor) {
            emu_serial_input(s->emu, CURSES_LINE, bytes + i, 1);
        } else {
            curses_key_byte(s, bytes[i], i + 1 < n);
        }
    }
}

static int curses_create_monitor(struct curses *s, struct err *err)
{
    struct front *f = front_of(s->emu);
    int r;
    if (f->monitor_given && !f->monitor_count && !f->mons) /* -monitor none */
        return 0;
    if ((r = emu_provide_serial(s->emu, CURSES_LINE, curses_monitor_output, s)))
        return err_set(err, r, "-display curses: %s", emu_strerror(r));
    s->monitor = chr_open(s->emu, CURSES_LINE, "embed:" CURSES_LINE, err);
    return s->monitor ? monitor_create(s->emu, s->monitor, err) : EMU_ENOMEM;
}

EMU_PRIV int curses_create(struct emu *e, struct err *err)
{
    struct curses *s;
    struct chr *c;
    int r;
    if (!host_is_terminal(host_stdin()) || !host_is_terminal(host_stdout()))
        return err_set(err, EMU_EINVAL, "-display curses: needs a terminal on standard input and output");
    if (!e->display)
        return err_set(err, EMU_EINVAL, "-display curses: there is no graphics card (-vga none)");
    for (c = e->chars; c; c = c->next)
        if (!strcmp(c->where, "stdio"))
            return err_set(err, EMU_EBUSY, "-display curses: the terminal is taken by %s (stdio); Ctrl-A c is the monitor there anyway", c->id);
    s = emu_alloc(e, sizeof *s);
    if (!s)
        return err_set(err, EMU_ENOMEM, "out of memory");
    s->emu = e;
    buf_init(&s->out, e);
    buf_init(&s->notes, e);
    timer_init(&s->key_timer, e, curses_next_key, s);
    timer_init(&s->wake_timer, e, curses_wake, s);
    if ((r = curses_create_monitor(s, err))) {
        emu_free(e, s);
        return r;
    }
    s->terminal = host_reopen_nonblocking(host_stdout(), true);
    s->own_terminal = s->terminal != HOST_FD_NONE;
    if (!s->own_terminal)
        s->terminal = host_stdout();
    host_terminal_raw(true, false);
    watch_add(e, &s->input, host_stdin(), HOST_READ, curses_input, s);
    s->returns = host_terminal_returns();
    s->hook.fn = curses_look;
    s->hook.opaque = s;
    poll_hook_add(e, &s->hook);
    timer_arm(&s->wake_timer, emu_now_ns(e));
    buf_printf(&s->out, "\033[?1049h");
    curses_redraw(s);
    curses_flush(s);
    front_of(e)->curses = s;
    return 0;
}

EMU_PRIV void curses_destroy(struct emu *e)
{
    struct curses *s = front_of(e)->curses;
    struct host_poll_item item;
    int tries;
    if (!s)
        return;
    timer_cancel(&s->key_timer);
    timer_cancel(&s->wake_timer);
    poll_hook_remove(e, &s->hook);
    watch_remove(e, &s->input);
    if (!s->in_monitor) {
        s->out.size = 0;
        buf_printf(&s->out, "\030\033[0m\033[?25h\033[?1049l"); /* CAN ends a sequence that was cut */
    }
    curses_say_notes(s);
    item.fd = s->terminal;
    item.want = HOST_WRITE;
    for (tries = 0; s->out.size && tries < 10; tries++) {
        curses_flush(s);
        if (s->out.size)
            host_poll(&item, 1, 30 * NS_PER_MS);
    }
    if (s->own_terminal)
        host_fd_close(s->terminal);
    host_terminal_raw(false, true);
    buf_free(&s->out);
    buf_free(&s->notes);
    emu_free(e, s);
    front_of(e)->curses = NULL;
}

/* ---- a guest that speaks to the screen only ---- */

#define SILENCE_NS (12 * NS_PER_SEC)
#define SILENCE_LOOKS 10

struct silence {
    struct emu *emu;
    struct timer timer;
    uint64_t change, bytes;
    unsigned looks;
};

static void silence_look(void *opaque)
{
    struct silence *s = opaque;
    struct emu *e = s->emu;
    if (e->serial_bytes != s->bytes)
        return; /* it speaks */
    if (e->display->change_count(e->display->opaque) != s->change)
        emu_log(e, LOG_NOTICE, "the guest writes to its screen, not to the serial port shown here: -display curses shows it, or Ctrl-A c and `screentext`");
    else if (++s->looks < SILENCE_LOOKS)
        timer_arm(&s->timer, emu_now_ns(e) + SILENCE_NS);
}

EMU_PRIV int silence_create(struct emu *e)
{
    struct front *f = front_of(e);
    struct silence *s;
    if (!e->display || f->display == DISPLAY_CURSES || !e->config.serial[0] || !strstr(e->config.serial[0], "stdio"))
        return 0;
    s = emu_alloc(e, sizeof *s);
    if (!s)
        return EMU_ENOMEM;
    s->emu = e;
    s->change = e->display->change_count(e->display->opaque);
    timer_init(&s->timer, e, silence_look, s);
    timer_arm(&s->timer, emu_now_ns(e) + SILENCE_NS);
    f->silence = s;
    return 0;
}

EMU_PRIV void silence_destroy(struct emu *e)
{
    struct silence *s = front_of(e)->silence;
    if (!s)
        return;
    timer_cancel(&s->timer);
    emu_free(e, s);
    front_of(e)->silence = NULL;
}
#undef SILENCE_NS
#undef SILENCE_LOOKS
#undef CURSES_REFRESH_NS
#undef CURSES_MAX_COLUMNS
#undef CURSES_MAX_ROWS
#undef CURSES_UNKNOWN
#undef CURSES_KEYS
#undef CURSES_KEY_NS
#undef CURSES_LINE
#undef CURSES_NOTES_MAX
