/* front/monitor.c - the human monitor.
 *
 * Models     QEMU's human monitor: command names, arguments and the shape of the answers that scripts read.
 * Contract   A monitor sits on a struct chr. monitor_command() runs one line and adds the answer to a buffer; the API's emu_monitor() and the
 *            interactive monitors share it.
 * Theory     Two tables: commands, and topics of `info`. A command gets its words split at spaces (quotes keep spaces). Answers are collected
 *            and sent as the line takes them; what it does not take waits in `pending`.
 * Invariants 1. A command never runs inside cpu_run(): lines arrive from the poll round.
 *            2. A bad argument answers one line and changes nothing.
 * Missing    Line editing beyond backspace, Ctrl-U, Ctrl-C, Tab and history. savevm, loadvm, delvm, commit and dump answer "not supported yet".
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "../dev/dev.h"
#include "../net/net.h"
#include "front.h"

#define MONITOR_LINE_MAX 1024
#define MONITOR_WORDS 16
#define MONITOR_HISTORY 16

struct monitor {
    struct emu *emu;
    struct chr *chr;
    char line[MONITOR_LINE_MAX];
    size_t length;
    unsigned escape; /* state of an ESC [ sequence */
    char *history[MONITOR_HISTORY];
    unsigned history_count, history_at;
    bool greeted;
    struct buf pending;
    struct monitor *next;
};

struct mon_call {
    struct emu *emu;
    struct buf *out;
    char *words[MONITOR_WORDS];
    int count;
    const char *format; /* what followed the slash: "8xw" of x/8xw or x /8xw; "" */
};

struct mon_command {
    const char *name, *args, *help;
    void (*run)(struct mon_call *m);
};

/* ---- expressions ---- */

static bool mon_register(struct emu *e, const char *name, uint64_t *value)
{
    static const char *const aliases[][2] = { { "esp", "rsp" }, { "sp", "rsp" }, { "eax", "rax" }, { "ebx", "rbx" }, { "ecx", "rcx" }, { "edx", "rdx" },
        { "esi", "rsi" }, { "edi", "rdi" }, { "ebp", "rbp" }, { "eflags", "rflags" } };
    size_t i;
    if (!strcmp(name, "pc") || !strcmp(name, "eip") || !strcmp(name, "rip")) { /* linear, as x/i wants it */
        *value = e->cpus[0]->seg[SEG_CS].base + e->cpus[0]->rip;
        return true;
    }
    for (i = 0; i < EMU_ARRAY_LEN(aliases); i++)
        if (!strcmp(name, aliases[i][0]))
            name = aliases[i][1];
    return emu_read_register(e, 0, name, value) == 0;
}

/* A term: number, $register, ( sum ), and - ~ + before one. */
struct mon_expr {
    struct emu *emu;
    const char *p;
    unsigned depth;
    bool bad;
};
static uint64_t mon_expr_binary(struct mon_expr *x, unsigned level);

static uint64_t mon_expr_term(struct mon_expr *x)
{
    char word[32];
    size_t n;
    uint64_t v = 0;
    while (*x->p == ' ')
        x->p++;
    if (x->depth > 50 || !*x->p) {
        x->bad = true;
        return 0;
    }
    x->depth++;
    if (strchr("+-~", *x->p)) {
        char op = *x->p++;
        v = mon_expr_term(x);
        v = op == '-' ? 0 - v : op == '~' ? ~v : v;
    } else if (*x->p == '(') {
        x->p++;
        v = mon_expr_binary(x, 0);
        x->bad |= *x->p++ != ')';
        if (x->bad)
            x->p = "";
    } else {
        n = strcspn(x->p, " +-*/%&|^()");
        snprintf(word, sizeof word, "%.*s", (int)EMU_MIN(n, sizeof word), x->p);
        x->bad |= n >= sizeof word || (word[0] == '$' ? !mon_register(x->emu, word + 1, &v) : parse_u64(word, 0, UINT64_MAX, &v) != 0);
        x->p += n;
    }
    x->depth--;
    return v;
}

/* Operators by falling level: + -, then & | ^, then * / %, as QEMU's monitor ranks them. */
static uint64_t mon_expr_binary(struct mon_expr *x, unsigned level)
{
    static const char *const operators[] = { "+-", "&|^", "*/%" };
    uint64_t v, w;
    if (level == EMU_ARRAY_LEN(operators))
        return mon_expr_term(x);
    v = mon_expr_binary(x, level + 1);
    for (;;) {
        char op;
        while (*x->p == ' ')
            x->p++;
        op = *x->p;
        if (!op || x->bad || !strchr(operators[level], op))
            return v;
        x->p++;
        w = mon_expr_binary(x, level + 1);
        if ((op == '/' || op == '%') && !w) {
            x->bad = true;
            return 0;
        }
        switch (op) {
        case '+': v += w; break;
        case '-': v -= w; break;
        case '&': v &= w; break;
        case '|': v |= w; break;
        case '^': v ^= w; break;
        case '*': v *= w; break;
        case '/': v /= w; break;
        default: v %= w;
        }
    }
}

/* false: no expression, or an unknown register. */
static bool mon_expression(struct emu *e, const char *text, uint64_t *value)
{
    struct mon_expr x = { 0 };
    x.emu = e;
    x.p = text;
    *value = mon_expr_binary(&x, 0);
    return !x.bad && !*x.p;
}

/* ---- keys ---- */

EMU_PRIV int front_key_number(const char *name)
{
    static const struct {
        const char *name;
        uint8_t code;
    } keys[] = {
        { "esc", 0x01 }, { "1", 0x02 }, { "2", 0x03 }, { "3", 0x04 }, { "4", 0x05 }, { "5", 0x06 }, { "6", 0x07 }, { "7", 0x08 }, { "8", 0x09 }, { "9", 0x0A },
        { "0", 0x0B }, { "minus", 0x0C }, { "equal", 0x0D }, { "backspace", 0x0E }, { "tab", 0x0F }, { "q", 0x10 }, { "w", 0x11 }, { "e", 0x12 }, { "r", 0x13 },
        { "t", 0x14 }, { "y", 0x15 }, { "u", 0x16 }, { "i", 0x17 }, { "o", 0x18 }, { "p", 0x19 }, { "bracket_left", 0x1A }, { "bracket_right", 0x1B },
        { "ret", 0x1C }, { "enter", 0x1C }, { "ctrl", 0x1D }, { "a", 0x1E }, { "s", 0x1F }, { "d", 0x20 }, { "f", 0x21 }, { "g", 0x22 }, { "h", 0x23 },
        { "j", 0x24 }, { "k", 0x25 }, { "l", 0x26 }, { "semicolon", 0x27 }, { "apostrophe", 0x28 }, { "grave_accent", 0x29 }, { "shift", 0x2A },
        { "backslash", 0x2B }, { "z", 0x2C }, { "x", 0x2D }, { "c", 0x2E }, { "v", 0x2F }, { "b", 0x30 }, { "n", 0x31 }, { "m", 0x32 }, { "comma", 0x33 },
        { "dot", 0x34 }, { "slash", 0x35 }, { "shift_r", 0x36 }, { "asterisk", 0x37 }, { "kp_multiply", 0x37 }, { "alt", 0x38 }, { "spc", 0x39 },
        { "caps_lock", 0x3A }, { "f1", 0x3B }, { "f2", 0x3C }, { "f3", 0x3D }, { "f4", 0x3E }, { "f5", 0x3F }, { "f6", 0x40 }, { "f7", 0x41 }, { "f8", 0x42 },
        { "f9", 0x43 }, { "f10", 0x44 }, { "num_lock", 0x45 }, { "scroll_lock", 0x46 }, { "kp_7", 0x47 }, { "kp_8", 0x48 }, { "kp_9", 0x49 },
        { "kp_subtract", 0x4A }, { "kp_4", 0x4B }, { "kp_5", 0x4C }, { "kp_6", 0x4D }, { "kp_add", 0x4E }, { "kp_1", 0x4F }, { "kp_2", 0x50 }, { "kp_3", 0x51 },
        { "kp_0", 0x52 }, { "kp_decimal", 0x53 }, { "sysrq", 0xB7 }, { "print", 0xB7 }, { "less", 0x56 }, { "f11", 0x57 }, { "f12", 0x58 }, { "kp_enter", 0x9C },
        { "ctrl_r", 0x9D }, { "kp_divide", 0xB5 }, { "alt_r", 0xB8 }, { "altgr", 0xB8 }, { "pause", 0xC6 }, { "home", 0xC7 }, { "up", 0xC8 }, { "pgup", 0xC9 },
        { "left", 0xCB }, { "right", 0xCD }, { "end", 0xCF }, { "down", 0xD0 }, { "pgdn", 0xD1 }, { "insert", 0xD2 }, { "delete", 0xD3 }, { "meta_l", 0xDB },
        { "meta_r", 0xDC }, { "menu", 0xDD },
    };
    uint64_t code;
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(keys); i++)
        if (!strcmp(keys[i].name, name))
            return keys[i].code;
    if (!strncmp(name, "0x", 2) && !parse_u64(name, 1, 255, &code))
        return (int)code;
    return -1;
}

struct mon_release { /* keys held down by sendkey, until a timer lets them go */
    struct emu *emu;
    struct timer timer;
    int keys[8];
    int count;
    struct mon_release *next;
};

static void mon_forget_keys(struct mon_release *r)
{
    struct mon_release **p;
    for (p = &front_of(r->emu)->held_keys; *p != r; p = &(*p)->next) {
    }
    *p = r->next;
    timer_cancel(&r->timer);
    emu_free(r->emu, r);
}

static void mon_release_keys(void *opaque)
{
    struct mon_release *r = opaque;
    while (r->count)
        input_key(r->emu, r->keys[--r->count], false);
    mon_forget_keys(r);
}

static void mon_sendkey(struct mon_call *m)
{
    struct mon_release *r;
    uint64_t hold_ms = 100;
    char *name = m->count > 1 ? m->words[1] : NULL;
    int i;
    if (!name || (m->count > 2 && !mon_expression(m->emu, m->words[2], &hold_ms))) {
        buf_printf(m->out, "sendkey: needs keys like ctrl-alt-delete, and perhaps a hold time in ms\n");
        return;
    }
    r = emu_alloc(m->emu, sizeof *r);
    if (!r)
        return;
    r->emu = m->emu;
    while (name && r->count < (int)EMU_ARRAY_LEN(r->keys)) {
        char *dash = name[0] == '-' ? NULL : strchr(name, '-');
        if (dash)
            *dash = 0;
        r->keys[r->count] = front_key_number(name[0] == '-' ? "minus" : name);
        if (r->keys[r->count] < 0) {
            buf_printf(m->out, "sendkey: unknown key: '%s'\n", name);
            emu_free(m->emu, r);
            return;
        }
        r->count++;
        name = dash ? dash + 1 : NULL;
    }
    for (i = 0; i < r->count; i++)
        input_key(m->emu, r->keys[i], true);
    r->next = front_of(m->emu)->held_keys;
    front_of(m->emu)->held_keys = r;
    timer_init(&r->timer, m->emu, mon_release_keys, r);
    timer_arm(&r->timer, emu_now_ns(m->emu) + (int64_t)EMU_MIN(hold_ms, (uint64_t)60000) * NS_PER_MS);
}

/* ---- machine ---- */

static void mon_quit(struct mon_call *m)
{
    m->emu->exit_status = 0;
    emu_request(m->emu, REQ_EXIT);
}
static void mon_stop(struct mon_call *m) { machine_pause(m->emu); }
static void mon_cont(struct mon_call *m)
{
    if (machine_resume(m->emu))
        buf_printf(m->out, "the guest is off; system_reset starts it again\n");
}
static void mon_system_reset(struct mon_call *m) { emu_request(m->emu, REQ_RESET); }
static void mon_system_powerdown(struct mon_call *m) { emu_request(m->emu, REQ_POWERDOWN); }
static void mon_nmi(struct mon_call *m) { lapic_nmi(m->emu); }

static void mon_screendump(struct mon_call *m)
{
    struct err err;
    const char *path = NULL, *format = NULL;
    int i;
    for (i = 1; i < m->count; i++) {
        if (!strcmp(m->words[i], "-f") && i + 1 < m->count)
            format = m->words[++i];
        else
            path = m->words[i];
    }
    if (!path)
        buf_printf(m->out, "screendump: needs a file name\n");
    else if (screen_save(m->emu, path, format, &err))
        buf_printf(m->out, "screendump: %s\n", err.text);
}

static void mon_screentext(struct mon_call *m)
{
    if (screen_text_print(m->emu, m->out))
        buf_printf(m->out, "the screen is in a graphics mode, or there is none\n");
}

static void mon_mouse_move(struct mon_call *m)
{
    int v[3] = { 0, 0, 0 }, i;
    for (i = 1; i < m->count && i <= 3; i++)
        v[i - 1] = atoi(m->words[i]);
    input_mouse(m->emu, v[0], v[1], v[2], m->emu->mouse_buttons);
}

static void mon_mouse_button(struct mon_call *m)
{
    uint64_t state;
    if (m->count < 2 || !mon_expression(m->emu, m->words[1], &state)) {
        buf_printf(m->out, "mouse_button: needs a state: 1 left, 2 middle, 4 right\n");
        return;
    }
    m->emu->mouse_buttons = (unsigned)((state & 1) | (state & 2 ? 4 : 0) | (state & 4 ? 2 : 0));
    input_mouse(m->emu, 0, 0, 0, m->emu->mouse_buttons);
}

/* ---- memory ---- */

static void mon_print_value(struct mon_call *m, uint64_t v, char format, unsigned size)
{
    switch (format) {
    case 'd': buf_printf(m->out, "%" PRId64, sext64(v, size * 8)); break;
    case 'u': buf_printf(m->out, "%" PRIu64, v); break;
    case 'o': buf_printf(m->out, "%#" PRIo64, v); break;
    case 'c': buf_printf(m->out, (v & 0xFF) >= 32 && (v & 0xFF) < 127 ? "'%c'" : "'\\x%02x'", (int)(v & 0xFF)); break;
    default: buf_printf(m->out, "0x%0*" PRIx64, (int)size * 2, v); break;
    }
}

/* x/FMT addr, xp/FMT addr: FMT is count, format x d u o c i, size b h w g. */
static void mon_dump(struct mon_call *m, bool physical)
{
    const char *f = m->format;
    uint64_t address, count = 1;
    char format = 'x';
    unsigned size = 4, column = 0;
    struct cpu *c = m->emu->cpus[0];
    if (*f >= '0' && *f <= '9')
        for (count = 0; *f >= '0' && *f <= '9'; f++)
            count = EMU_MIN(count * 10 + (uint64_t)(*f - '0'), (uint64_t)65536);
    for (; *f; f++) {
        if (*f == 'b' || *f == 'h' || *f == 'w' || *f == 'g')
            size = *f == 'b' ? 1 : *f == 'h' ? 2 : *f == 'w' ? 4 : 8;
        else if (strchr("xduoci", *f))
            format = *f;
        else {
            buf_printf(m->out, "%s/%s: '%c' is no format; there are x d u o c i and the sizes b h w g\n", m->words[0], m->format, *f);
            return;
        }
    }
    if (m->count < 2 || !mon_expression(m->emu, m->words[1], &address)) {
        buf_printf(m->out, "%s: needs an address (a number or $register)\n", m->words[0]);
        return;
    }
    if (format == 'c')
        size = 1;
    while (count--) {
        uint8_t bytes[16];
        uint64_t v;
        if (format == 'i') {
            struct insn insn;
            char text[120];
            size_t n = sizeof bytes;
            while (n && !(physical ? (mem_read(m->emu, address, bytes, n), true) : cpu_debug_read(c, address, bytes, n)))
                n--;
            if (!n || cpu_decode(c, c->mode_key, bytes, (unsigned)n, &insn)) {
                buf_printf(m->out, "0x%08" PRIx64 ":  (bad)\n", address);
                address++;
                continue;
            }
            cpu_disassemble(&insn, address, text, sizeof text);
            buf_printf(m->out, "0x%08" PRIx64 ":  %s\n", address, text);
            address += insn.length;
            continue;
        }
        if (physical)
            mem_read(m->emu, address, bytes, size);
        else if (!cpu_debug_read(c, address, bytes, size)) {
            buf_printf(m->out, "%sCannot access memory\n", column ? "\n" : "");
            return;
        }
        v = ldn_le(bytes, size);
        if (!column)
            buf_printf(m->out, "%016" PRIx64 ":", address);
        buf_printf(m->out, " ");
        mon_print_value(m, v, format, size);
        address += size;
        column += size;
        if (column >= 16 || !count) {
            buf_printf(m->out, "\n");
            column = 0;
        }
    }
}
static void mon_x(struct mon_call *m) { mon_dump(m, false); }
static void mon_xp(struct mon_call *m) { mon_dump(m, true); }

static void mon_memsave(struct mon_call *m)
{
    bool physical = m->words[0][0] == 'p';
    uint64_t address, size;
    struct err err;
    uint8_t *data;
    if (m->count < 4 || !mon_expression(m->emu, m->words[1], &address) || !mon_expression(m->emu, m->words[2], &size) || size > GIB * 4 || size != (size_t)size) {
        buf_printf(m->out, "%s: needs address, size and file name\n", m->words[0]);
        return;
    }
    data = emu_alloc(m->emu, (size_t)size);
    if (!data)
        buf_printf(m->out, "out of memory\n");
    else if (physical ? (mem_read(m->emu, address, data, (size_t)size), false) : !cpu_debug_read(m->emu->cpus[0], address, data, (size_t)size))
        buf_printf(m->out, "%s: not all of that range is mapped\n", m->words[0]);
    else if (host_file_save(m->words[3], data, (size_t)size, &err))
        buf_printf(m->out, "%s: %s\n", m->words[0], err.text);
    emu_free(m->emu, data);
}

static void mon_print(struct mon_call *m)
{
    uint64_t v;
    if (m->count < 2 || !mon_expression(m->emu, m->words[1], &v)) {
        buf_printf(m->out, "print: needs an expression of numbers, $registers, + - * / %% & | ^ ~ and parentheses\n");
        return;
    }
    if (*m->format && *m->format != 'x')
        mon_print_value(m, v, *m->format, 8);
    else
        buf_printf(m->out, "0x%" PRIx64, v);
    buf_printf(m->out, "\n");
}

/* i/FMT port [index]: an index is written to the port first, and the port behind it is read, as CMOS and CRTC want it. o/FMT port value. */
static void mon_io(struct mon_call *m)
{
    bool in = m->words[0][0] == 'i';
    uint64_t port, value = 0;
    unsigned size = strchr(m->format, 'h') ? 2 : strchr(m->format, 'w') ? 4 : 1;
    if (m->count < (in ? 2 : 3) || !mon_expression(m->emu, m->words[1], &port) || port > 0xFFFF ||
        (m->count > 2 && !mon_expression(m->emu, m->words[2], &value))) {
        buf_printf(m->out, "%s: needs a port%s\n", m->words[0], in ? "" : " and a value");
        return;
    }
    if (!in || m->count > 2)
        port_write(m->emu, (uint16_t)port, value, in ? 1 : size);
    if (in && m->count > 2)
        port = (port + 1) & 0xFFFF;
    if (in)
        buf_printf(m->out, "port%c[0x%04x] = 0x%0*" PRIx64 "\n", size == 1 ? 'b' : size == 2 ? 'w' : 'l', (unsigned)port, (int)size * 2,
                   port_read(m->emu, (uint16_t)port, size));
}

/* ---- media ---- */

static void mon_eject(struct mon_call *m)
{
    bool force = m->count > 2 && !strcmp(m->words[1], "-f");
    const char *id = m->count > 1 ? m->words[m->count - 1] : NULL;
    struct blk *b = id ? blk_find(m->emu, id) : NULL;
    struct err err;
    if (!b)
        buf_printf(m->out, "Device '%s' not found\n", id ? id : "");
    else if (blk_eject(b, force, &err))
        buf_printf(m->out, "%s\n", err.text);
}

static void mon_change(struct mon_call *m)
{
    struct blk *b = m->count > 2 ? blk_find(m->emu, m->words[1]) : NULL;
    struct err err;
    if (m->count < 3)
        buf_printf(m->out, "change: needs a device and a file\n");
    else if (!b)
        buf_printf(m->out, "Device '%s' not found\n", m->words[1]);
    else if (blk_change(b, m->words[2], m->count > 3 ? m->words[3] : NULL, &err))
        buf_printf(m->out, "%s\n", err.text);
}

static void mon_boot_set(struct mon_call *m)
{
    if (m->count < 2 || strlen(m->words[1]) >= sizeof m->emu->config.boot_order || strspn(m->words[1], "acdn") != strlen(m->words[1]))
        buf_printf(m->out, "boot_set: needs letters of a, c, d, n\n");
    else {
        snprintf(m->emu->config.boot_order, sizeof m->emu->config.boot_order, "%s", m->words[1]);
        chipset_set_boot_order(m->emu);
    }
}

static void mon_log(struct mon_call *m)
{
    static const char *const names[] = { "guest_errors", "int", "cpu_reset", "in_asm", "exec", "cpu", "unimp", "net", "trace" };
    unsigned i, mask = 0;
    const char *p = m->count > 1 ? m->words[1] : "";
    if (!strcmp(p, "none")) {
        m->emu->log_mask = 0;
        return;
    }
    while (*p) {
        size_t n = strcspn(p, ",");
        for (i = 0; i < EMU_ARRAY_LEN(names); i++)
            if (strlen(names[i]) == n && !strncmp(names[i], p, n))
                break;
        if (i == EMU_ARRAY_LEN(names)) {
            buf_printf(m->out, "log: unknown item %.*s\n", (int)n, p);
            return;
        }
        mask |= 1u << i;
        p += n + (p[n] == ',');
    }
    if (mask)
        m->emu->log_mask = mask;
    else
        buf_printf(m->out, "log: none, or items like int,cpu_reset,guest_errors\n");
}
EMU_STATIC_ASSERT(LOG_GUEST_ERROR == 1 && LOG_TRACE == 1 << 8, monitor_log_order); /* ORDER of names[] above */

static void mon_gdbserver(struct mon_call *m)
{
    struct err err;
    gdb_destroy(m->emu);
    if (m->count > 1 && !strcmp(m->words[1], "none"))
        buf_printf(m->out, "Disabled gdbserver\n");
    else if (gdb_create(m->emu, m->count > 1 ? m->words[1] : "tcp::1234", &err))
        buf_printf(m->out, "%s\n", err.text);
    else
        buf_printf(m->out, "Waiting for gdb connection on device '%s'\n", m->count > 1 ? m->words[1] : "tcp::1234");
}

/* ---- network ---- */

static void mon_set_link(struct mon_call *m)
{
    struct net_port *p = m->count > 2 ? net_port_find(m->emu, m->words[1]) : NULL;
    if (m->count < 3 || (strcmp(m->words[2], "on") && strcmp(m->words[2], "off")))
        buf_printf(m->out, "set_link: needs a name and on or off\n");
    else if (!p)
        buf_printf(m->out, "Device '%s' not found; `info network` lists them\n", m->words[1]);
    else
        net_set_link(p, !strcmp(m->words[2], "on"));
}

static void mon_netdev_add(struct mon_call *m)
{
    struct options o;
    struct err err;
    int r;
    if (m->count < 2) {
        buf_printf(m->out, "netdev_add: needs TYPE,id=NAME[,...]\n");
        return;
    }
    r = options_parse(&o, m->emu, "netdev_add", m->words[1], "type", &err);
    if (!r) {
        r = net_netdev_add(m->emu, &o, &err);
        options_free(&o);
    }
    if (r)
        buf_printf(m->out, "%s\n", err.text);
}

static void mon_netdev_del(struct mon_call *m)
{
    struct net_port *p = m->count > 1 ? net_port_find(m->emu, m->words[1]) : NULL;
    if (!p || !p->destroy || !strcmp(p->model, "nic")) {
        buf_printf(m->out, "Device '%s' not found; `info network` lists them\n", m->count > 1 ? m->words[1] : "");
        return;
    }
    if (p->peer) /* its card has no cable from now on */
        net_set_link(p->peer, false);
    p->destroy(p);
}

static void mon_hostfwd(struct mon_call *m)
{
    struct err err;
    const char *netdev = m->count > 2 ? m->words[1] : NULL, *rule = m->count > 1 ? m->words[m->count - 1] : NULL;
    int r;
    if (!rule) {
        buf_printf(m->out, "%s: needs [netdev] and a rule\n", m->words[0]);
        return;
    }
    r = !strcmp(m->words[0], "hostfwd_add") ? nat_hostfwd_add(m->emu, netdev, rule, &err) : nat_hostfwd_remove(m->emu, netdev, rule, &err);
    if (r)
        buf_printf(m->out, "%s\n", err.text);
    else if (strcmp(m->words[0], "hostfwd_add"))
        buf_printf(m->out, "host forwarding rule for %s removed\n", rule);
}

/* ---- info ---- */

static void mon_info_status(struct mon_call *m)
{
    static const char *const states[] = { "running", "paused", "paused (shutdown)", "paused (suspended)" };
    buf_printf(m->out, "VM status: %s\n", states[m->emu->run_state]);
}
static void mon_info_version(struct mon_call *m) { buf_printf(m->out, "emu " EMU_VERSION "\n"); }
static void mon_info_registers(struct mon_call *m)
{
    unsigned i;
    for (i = 0; i < m->emu->cpu_count; i++) {
        if (i && !(m->count > 2 && !strcmp(m->words[2], "-a")))
            break;
        buf_printf(m->out, "\nCPU#%u\n", i);
        cpu_print_registers(m->emu->cpus[i], m->out);
    }
}
static void mon_info_cpus(struct mon_call *m)
{
    unsigned i;
    for (i = 0; i < m->emu->cpu_count; i++)
        buf_printf(m->out, "%s CPU #%u: pc=0x%016" PRIx64 "%s\n", i ? " " : "*", i, m->emu->cpus[i]->rip,
                   m->emu->cpus[i]->waiting_sipi ? " (waiting for SIPI)" : m->emu->cpus[i]->halted ? " (halted)" : "");
}
static void mon_info_block(struct mon_call *m) { blk_print_info(m->emu, m->out); }
static void mon_info_chardev(struct mon_call *m) { chr_print_info(m->emu, m->out); }
static void mon_info_network(struct mon_call *m) { net_print_info(m->emu, m->out); }
static void mon_info_usernet(struct mon_call *m) { nat_print_info(m->emu, m->out); }
static void mon_info_mtree(struct mon_call *m) { mem_print_map(m->emu, m->out); }
static void mon_info_pci(struct mon_call *m) { pci_print_info(m->emu, m->out); }
static void mon_info_pic(struct mon_call *m)
{
    pic_print_info(m->emu, m->out);
    ioapic_print_info(m->emu, m->out);
}
static void mon_info_lapic(struct mon_call *m)
{
    uint64_t n = 0;
    if (m->count > 2 && (!mon_expression(m->emu, m->words[2], &n) || n >= m->emu->cpu_count))
        buf_printf(m->out, "there is no CPU %s\n", m->words[2]);
    else
        lapic_print_info(m->emu, (unsigned)n, m->out);
}
static void mon_info_qtree(struct mon_call *m)
{
    struct device *d;
    for (d = m->emu->devices; d; d = d->next)
        buf_printf(m->out, "dev: %s, id \"%s\", bus %s\n", d->cls->name, d->id ? d->id : "", d->cls->bus);
}
static void mon_info_jit(struct mon_call *m)
{
    struct trace_stats s;
    uint64_t total;
    trace_get_stats(m->emu, &s);
    total = s.insns_tier1 + s.insns_tier2;
    buf_printf(m->out, "instructions       %" PRIu64 "\nfirst tier         %" PRIu64 " (%.2f%%)\ntraces             %" PRIu64 "\n", m->emu->insn_total, s.insns_tier1,
               total ? 100.0 * (double)s.insns_tier1 / (double)total : 0.0, s.traces_built);
    buf_printf(m->out, "instructions built %" PRIu64 "\ninvalidations      %" PRIu64 "\nslow memory paths  %" PRIu64 "\nbuilding           %" PRIu64 " ms\n",
               s.insns_built, s.invalidations, s.slow_path, s.build_ns / (uint64_t)NS_PER_MS);
    buf_printf(m->out, "second tier traces %" PRIu64 "\nflushes            %" PRIu64 "\nlookups            %" PRIu64 "\npage misses        %" PRIu64 "\n", s.tier2_built,
               s.flushes, s.lookups, s.misses);
}
/* The page tables of CPU 0, top down: gaps cost one entry each. info tlb gives a line a page, info mem one a run of equal rights. */
struct mon_walk {
    struct mon_call *call;
    bool runs;
    unsigned lines; /* still to be printed */
    uint64_t start, end, rights; /* the run under way; start == end: none */
};

static void mon_walk_end_run(struct mon_walk *w)
{
    if (w->start == w->end || !w->lines)
        return;
    buf_printf(w->call->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", w->start, w->end, w->end - w->start, w->rights & 4 ? 'u' : '-', w->rights & 2 ? 'w' : '-');
    w->start = w->end;
    w->lines--;
}

static void mon_walk_page(struct mon_walk *w, uint64_t va, uint64_t size, uint64_t entry, uint64_t rights)
{
    if (w->runs) {
        if (va != w->end || rights != w->rights) {
            mon_walk_end_run(w);
            w->start = va;
            w->rights = rights;
        }
        w->end = va + size;
        return;
    }
    buf_printf(w->call->out, "%016" PRIx64 ": %016" PRIx64 " %c%c%c%c%c\n", va, entry & UINT64_C(0x000FFFFFFFFFF000) & ~(size - 1), entry & 0x100 ? 'G' : '-', size > 4096 ? 'P' : '-',
               entry & 0x40 ? 'D' : '-', entry & 4 ? 'U' : '-', entry & 2 ? 'W' : '-');
    w->lines--;
}

static void mon_walk_tables(struct mon_walk *w, uint64_t table, unsigned level, unsigned width, uint64_t base, uint64_t rights)
{
    struct cpu *c = w->call->emu->cpus[0];
    bool pae_root = level == 3 && width == 8 && !(c->efer & EFER_LMA); /* four page-directory pointers without rights of their own */
    unsigned i, count = pae_root ? 4 : width == 8 ? 512 : 1024, shift = 12 + (level - 1) * (width == 8 ? 9 : 10);
    for (i = 0; i < count && w->lines; i++) {
        uint64_t entry = mem_ld(w->call->emu, table + (uint64_t)i * width, width), va = base | (uint64_t)i << shift;
        bool large = level > 1 && level < 4 && (entry & 0x80) && !pae_root && (width == 8 || (c->cr4 & CR4_PSE));
        if (!(entry & 1))
            continue;
        if (level == (c->cr4 & CR4_LA57 ? 5u : 4u) && i >= 256) /* the upper half: sign-extended */
            va |= ~UINT64_C(0) << (shift + 9);
        if (level == 1 || large)
            mon_walk_page(w, va, UINT64_C(1) << shift, entry, rights & entry);
        else
            mon_walk_tables(w, entry & UINT64_C(0x000FFFFFFFFFF000), level - 1, width, va, pae_root ? rights : rights & entry);
    }
}

static void mon_walk_all(struct mon_call *m, bool runs)
{
    struct cpu *c = m->emu->cpus[0];
    struct mon_walk w = { 0 };
    w.call = m;
    w.runs = runs;
    w.lines = 1000;
    if (!(c->cr0 & CR0_PG))
        buf_printf(m->out, "PG disabled\n");
    else if (c->efer & EFER_LMA)
        mon_walk_tables(&w, c->cr3 & UINT64_C(0x000FFFFFFFFFF000), c->cr4 & CR4_LA57 ? 5 : 4, 8, 0, 6);
    else if (c->cr4 & CR4_PAE)
        mon_walk_tables(&w, c->cr3 & UINT64_C(0xFFFFFFE0), 3, 8, 0, 6);
    else
        mon_walk_tables(&w, c->cr3 & UINT64_C(0xFFFFF000), 2, 4, 0, 6);
    mon_walk_end_run(&w);
    if (!w.lines)
        buf_printf(m->out, "...\n");
}
static void mon_info_tlb(struct mon_call *m) { mon_walk_all(m, false); }
static void mon_info_mem(struct mon_call *m) { mon_walk_all(m, true); }
static void mon_info_usb(struct mon_call *m) { buf_printf(m->out, "USB support not enabled\n"); }
static void mon_info_snapshots(struct mon_call *m) { buf_printf(m->out, "info snapshots: not supported yet\n"); }
static void mon_info_name(struct mon_call *m) { buf_printf(m->out, "%s\n", m->emu->config.name ? m->emu->config.name : "(none)"); }
static void mon_info_uuid(struct mon_call *m) { buf_printf(m->out, "%s\n", m->emu->config.uuid ? m->emu->config.uuid : "00000000-0000-0000-0000-000000000000"); }

static const struct mon_command mon_topics[] = {
    { "block", "", "drives", mon_info_block },
    { "chardev", "", "character devices", mon_info_chardev },
    { "cpus", "", "CPUs and where they are", mon_info_cpus },
    { "irq", "", "interrupt controllers", mon_info_pic },
    { "jit", "", "traces and their use", mon_info_jit },
    { "lapic", "[cpu]", "local APIC", mon_info_lapic },
    { "mem", "", "ranges of linear addresses that are mapped, and their rights", mon_info_mem },
    { "mtree", "", "memory and port map", mon_info_mtree },
    { "name", "", "name of the guest", mon_info_name },
    { "network", "", "network ports, cards and backends", mon_info_network },
    { "pci", "", "PCI devices", mon_info_pci },
    { "pic", "", "interrupt controllers", mon_info_pic },
    { "qtree", "", "devices", mon_info_qtree },
    { "registers", "[-a]", "CPU registers", mon_info_registers },
    { "snapshots", "", "snapshots", mon_info_snapshots },
    { "status", "", "running or paused", mon_info_status },
    { "tlb", "", "virtual to physical mappings", mon_info_tlb },
    { "usb", "", "USB devices", mon_info_usb },
    { "usernet", "", "connections of -netdev user", mon_info_usernet },
    { "uuid", "", "system UUID", mon_info_uuid },
    { "version", "", "version of emu", mon_info_version },
};

static void mon_list_topics(struct mon_call *m)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(mon_topics); i++)
        buf_printf(m->out, "info %s%s%s -- %s\n", mon_topics[i].name, *mon_topics[i].args ? " " : "", mon_topics[i].args, mon_topics[i].help);
}

static void mon_info(struct mon_call *m)
{
    size_t i;
    for (i = 0; m->count > 1 && i < EMU_ARRAY_LEN(mon_topics); i++)
        if (!strcmp(mon_topics[i].name, m->words[1])) {
            mon_topics[i].run(m);
            return;
        }
    if (m->count > 1)
        buf_printf(m->out, "unknown topic: '%s'\n", m->words[1]);
    mon_list_topics(m);
}

/* QEMU's commands that have no machinery here yet. */
static void mon_later(struct mon_call *m) { buf_printf(m->out, "%s: not supported yet\n", m->words[0]); }

static void mon_help(struct mon_call *m);

static const struct mon_command mon_commands[] = {
    { "help", "[cmd]", "show this", mon_help },
    { "?", "[cmd]", NULL, mon_help },
    { "boot_set", "letters", "boot order of the next reset", mon_boot_set },
    { "change", "device file [format]", "put another medium in", mon_change },
    { "commit", "", NULL, mon_later },
    { "cont", "", "run on", mon_cont },
    { "c", "", NULL, mon_cont },
    { "delvm", "", NULL, mon_later },
    { "dump-guest-memory", "", NULL, mon_later },
    { "eject", "[-f] device", "take the medium out", mon_eject },
    { "gdbserver", "[device|none]", "wait for a debugger (default tcp::1234)", mon_gdbserver },
    { "hostfwd_add", "[netdev] [tcp|udp]:[addr]:port-[addr]:port", "forward a port of the host", mon_hostfwd },
    { "hostfwd_remove", "[netdev] [tcp|udp]:[addr]:port", "end a forwarding", mon_hostfwd },
    { "i", "/fmt port [index]", "read a port", mon_io },
    { "info", "[topic]", "show state", mon_info },
    { "loadvm", "", NULL, mon_later },
    { "log", "items|none", "log items, as -d", mon_log },
    { "memsave", "addr size file", "write virtual memory to a file", mon_memsave },
    { "mouse_button", "state", "1 left, 2 middle, 4 right", mon_mouse_button },
    { "mouse_move", "dx dy [dz]", "move the mouse", mon_mouse_move },
    { "netdev_add", "type,id=name[,...]", "a network backend", mon_netdev_add },
    { "netdev_del", "id", "remove a network backend", mon_netdev_del },
    { "nmi", "", "a non-maskable interrupt", mon_nmi },
    { "o", "/fmt port value", "write a port", mon_io },
    { "pmemsave", "addr size file", "write physical memory to a file", mon_memsave },
    { "print", "/fmt expression", "value of an expression, like ($rip&0xfff)+4", mon_print },
    { "p", "/fmt expression", NULL, mon_print },
    { "quit", "", "end the emulator", mon_quit },
    { "q", "", NULL, mon_quit },
    { "savevm", "", NULL, mon_later },
    { "screendump", "file [-f ppm|png]", "the screen as a picture", mon_screendump },
    { "screentext", "", "the screen as text", mon_screentext },
    { "sendkey", "keys [hold_ms]", "press keys, like ctrl-alt-delete", mon_sendkey },
    { "set_link", "name on|off", "plug or unplug a network cable", mon_set_link },
    { "stop", "", "pause", mon_stop },
    { "s", "", NULL, mon_stop },
    { "system_powerdown", "", "press the power button", mon_system_powerdown },
    { "system_reset", "", "press the reset button", mon_system_reset },
    { "x", "/fmt addr", "virtual memory; fmt is a count, x d u o c or i (instructions), and a size b h w g", mon_x },
    { "xp", "/fmt addr", "physical memory", mon_xp },
};

static void mon_help(struct mon_call *m)
{
    size_t i, found = 0;
    for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
        if (mon_commands[i].help && (m->count < 2 || !strcmp(m->words[1], mon_commands[i].name))) {
            found++;
            buf_printf(m->out, "%s%s%s -- %s\n", mon_commands[i].name, *mon_commands[i].args && *mon_commands[i].args != '/' ? " " : "", mon_commands[i].args, mon_commands[i].help);
        }
    if (!found)
        buf_printf(m->out, "help: there is no command '%s'\n", m->words[1]);
    else if (m->count > 1 && !strcmp(m->words[1], "info"))
        mon_list_topics(m);
}

/* Splits at spaces in place; quotes and backslash keep them. */
static int mon_split(char *line, char *words[MONITOR_WORDS])
{
    int n = 0;
    char *from = line, *to = line;
    while (*from && n < MONITOR_WORDS) {
        bool quoted = false;
        while (*from == ' ' || *from == '\t')
            from++;
        if (!*from)
            break;
        words[n++] = to;
        for (; *from && (quoted || (*from != ' ' && *from != '\t')); from++) {
            if (*from == '"') {
                quoted = !quoted;
                continue;
            }
            if (*from == '\\' && from[1])
                from++;
            *to++ = *from;
        }
        if (*from)
            from++;
        *to++ = 0;
    }
    return n;
}

EMU_PRIV void monitor_command(struct emu *e, const char *line, struct buf *out)
{
    struct mon_call m;
    char text[MONITOR_LINE_MAX];
    size_t i, name;
    memset(&m, 0, sizeof m);
    m.emu = e;
    m.out = out;
    snprintf(text, sizeof text, "%s", line);
    m.count = mon_split(text, m.words);
    if (!m.count)
        return;
    name = strcspn(m.words[0], "/");
    for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
        if (strlen(mon_commands[i].name) == name && !strncmp(mon_commands[i].name, m.words[0], name))
            break;
    if (i == EMU_ARRAY_LEN(mon_commands) || (m.words[0][name] && mon_commands[i].args[0] != '/')) {
        buf_printf(out, "unknown command: '%s'\n", m.words[0]);
        return;
    }
    m.format = m.words[0] + name + (m.words[0][name] == '/');
    m.words[0][name] = 0;
    if (!*m.format && mon_commands[i].args[0] == '/' && m.count > 1 && m.words[1][0] == '/') { /* x /8xw: the blank that QEMU allows */
        m.format = m.words[1] + 1;
        memmove(m.words + 1, m.words + 2, (size_t)(--m.count - 1) * sizeof m.words[0]);
    }
    mon_commands[i].run(&m);
}

/* ---- the interactive line ---- */

static void mon_flush(struct monitor *m)
{
    int n;
    if (!m->pending.size)
        return;
    n = chr_write(m->chr, m->pending.data, m->pending.size);
    if (n > 0) {
        memmove(m->pending.data, m->pending.data + n, m->pending.size - (size_t)n);
        m->pending.size -= (size_t)n;
    }
}

/* Text with line ends as terminals want them. */
static void mon_say(struct monitor *m, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            buf_add(&m->pending, "\r", 1);
        buf_add(&m->pending, text, 1);
    }
    mon_flush(m);
}

static void mon_replace_line(struct monitor *m, const char *text)
{
    while (m->length) {
        m->length--;
        mon_say(m, "\b \b");
    }
    snprintf(m->line, sizeof m->line, "%s", text);
    m->length = strlen(m->line);
    mon_say(m, m->line);
}

static void mon_remember(struct monitor *m)
{
    char *copy;
    if (!m->length || (m->history_count && !strcmp(m->history[m->history_count - 1], m->line)))
        return;
    copy = emu_strdup(m->emu, m->line);
    if (!copy)
        return;
    if (m->history_count == MONITOR_HISTORY) {
        emu_free(m->emu, m->history[0]);
        memmove(m->history, m->history + 1, (MONITOR_HISTORY - 1) * sizeof *m->history);
        m->history_count--;
    }
    m->history[m->history_count++] = copy;
}

static void mon_run_line(struct monitor *m)
{
    struct buf out;
    m->line[m->length] = 0;
    mon_say(m, "\n");
    mon_remember(m);
    m->history_at = m->history_count;
    buf_init(&out, m->emu);
    monitor_command(m->emu, m->line, &out);
    if (out.data)
        mon_say(m, (char *)out.data);
    buf_free(&out);
    m->length = 0;
    mon_say(m, "(emu) ");
}

static void mon_complete(struct monitor *m)
{
    size_t i, found = 0, last = 0;
    m->line[m->length] = 0;
    for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
        if (!strncmp(mon_commands[i].name, m->line, m->length)) {
            found++;
            last = i;
        }
    if (found == 1) {
        char text[64];
        snprintf(text, sizeof text, "%s ", mon_commands[last].name);
        mon_replace_line(m, text);
    } else if (found > 1) {
        mon_say(m, "\n");
        for (i = 0; i < EMU_ARRAY_LEN(mon_commands); i++)
            if (!strncmp(mon_commands[i].name, m->line, m->length)) {
                mon_say(m, mon_commands[i].name);
                mon_say(m, " ");
            }
        mon_say(m, "\n(emu) ");
        mon_say(m, m->line);
    }
}

static void mon_history(struct monitor *m, bool up)
{
    if (up ? m->history_at == 0 : m->history_at >= m->history_count)
        return;
    m->history_at += up ? -1u : 1u;
    mon_replace_line(m, m->history_at < m->history_count ? m->history[m->history_at] : "");
}

static void mon_char(struct monitor *m, uint8_t ch)
{
    if (m->escape == 1) {
        m->escape = ch == '[' || ch == 'O' ? 2 : 0;
        return;
    }
    if (m->escape == 2) {
        if ((ch >= '0' && ch <= '9') || ch == ';')
            return;
        m->escape = 0;
        if (ch == 'A' || ch == 'B')
            mon_history(m, ch == 'A');
        return;
    }
    switch (ch) {
    case 27: m->escape = 1; break;
    case '\r':
    case '\n': mon_run_line(m); break;
    case 8:
    case 127:
        if (m->length) {
            m->length--;
            mon_say(m, "\b \b");
        }
        break;
    case 3: /* Ctrl-C */
    case 21: mon_replace_line(m, ""); break; /* Ctrl-U */
    case '\t': mon_complete(m); break;
    default:
        if (ch >= 32 && m->length + 1 < sizeof m->line) {
            char echo[2];
            m->line[m->length++] = (char)ch;
            echo[0] = (char)ch;
            echo[1] = 0;
            mon_say(m, echo);
        }
    }
}

static size_t mon_can_receive(void *opaque)
{
    struct monitor *m = opaque;
    return m->pending.size > 65536 ? 0 : 256;
}

static void mon_receive(void *opaque, const uint8_t *bytes, size_t size)
{
    struct monitor *m = opaque;
    while (size--)
        mon_char(m, *bytes++);
}

static void mon_event(void *opaque, enum chr_event event)
{
    struct monitor *m = opaque;
    if (event == CHR_OPENED) {
        m->length = 0;
        mon_say(m, m->greeted ? "(emu) " : "emu " EMU_VERSION " monitor - type 'help' for more information\n(emu) ");
        m->greeted = true;
    } else if (event == CHR_CLOSED) {
        m->pending.size = 0;
        m->greeted = false;
    }
}

static void mon_writable(void *opaque)
{
    struct monitor *m = opaque;
    mon_flush(m);
    if (mon_can_receive(m)) /* lines that waited because nobody fetched the answers */
        chr_accept_input(m->chr);
}

static bool mon_can_be_resumed(struct emu *e)
{
    const struct monitor *m;
    for (m = front_of(e)->monitors; m; m = m->next)
        if (!chr_is_deaf(m->chr))
            return true;
    return false;
}

EMU_PRIV int monitor_create(struct emu *e, struct chr *chr, struct err *err)
{
    struct monitor *m = emu_alloc(e, sizeof *m);
    if (!m)
        return err_set(err, EMU_ENOMEM, "out of memory");
    m->emu = e;
    m->chr = chr;
    buf_init(&m->pending, e);
    chr->can_receive = mon_can_receive;
    chr->receive = mon_receive;
    chr->event = mon_event;
    chr->writable = mon_writable;
    chr->opaque = m;
    chr->in_use = true;
    m->next = front_of(e)->monitors;
    front_of(e)->monitors = m;
    e->can_be_resumed = mon_can_be_resumed;
    if (chr->open)
        mon_event(m, CHR_OPENED);
    chr_accept_input(chr);
    return 0;
}

EMU_PRIV void monitor_destroy_all(struct emu *e)
{
    while (front_of(e)->held_keys)
        mon_forget_keys(front_of(e)->held_keys);
    while (front_of(e)->monitors) {
        struct monitor *m = front_of(e)->monitors;
        front_of(e)->monitors = m->next;
        m->chr->can_receive = NULL;
        m->chr->receive = NULL;
        m->chr->event = NULL;
        m->chr->writable = NULL;
        while (m->history_count)
            emu_free(e, m->history[--m->history_count]);
        buf_free(&m->pending);
        emu_free(e, m);
    }
}
#undef MONITOR_LINE_MAX
#undef MONITOR_WORDS
#undef MONITOR_HISTORY
