/* dev/ps2.c - 8042 keyboard controller with a PS/2 keyboard and a PS/2 wheel mouse ("i8042").
 *
 * Models     IBM PS/2 Hardware Interface Technical Reference (Keyboard and Auxiliary Device Controller; Keyboard; Mouse), the 8042
 *            translation of scan code set 2 into set 1, Microsoft's IntelliMouse extensions (3-byte knock to ids 3 and 4).
 * Contract   board.c creates one. Guests reach it through ports 60h and 64h, IRQ 1 and IRQ 12. Keys and movements come from the front
 *            ends through input_key() and input_mouse(); A20 and reset go to the chipset.
 * Theory     One byte at a time sits in the output buffer; ps2_update() fills it when it is empty, first from the controller's own
 *            answers, then from the keyboard, then from the mouse. A device's answer to a command goes before its queued events.
 *            After the guest has read a byte the next event byte comes PS2_BYTE_NS later: interrupt handlers that read port 60h twice
 *            (their own, then the BIOS's behind it) must see the same byte twice, as on the wire's pace they do.
 *              guest reads 60h -> ps2_read_data -> byte_timer -> ps2_update -> OBF, IRQ
 *            The mouse gathers movement while its queue holds a packet, so a slow guest gets few large steps, not a backlog; a change
 *            of buttons is always a packet of its own.
 * Invariants 1. IRQ 1 is high exactly while OBF is set, AUX is not and the mode byte allows it; IRQ 12 likewise with AUX.
 *            2. A scan code sequence or mouse packet is queued whole or not at all.
 * Missing    Typematic repeat: a held key is repeated by the front end, if at all. Scan code set 3 key types (FBh-FDh) are accepted only.
 */
#include "../machine.h"
#include "dev.h"

#define PS2_BYTE_NS (200 * NS_PER_US)
#define PS2_QUEUE 256u

enum { /* status, port 64h */
    PS2_STATUS_OBF = 0x01,
    PS2_STATUS_SYS = 0x04,
    PS2_STATUS_COMMAND = 0x08,
    PS2_STATUS_UNLOCKED = 0x10,
    PS2_STATUS_AUX = 0x20
};
enum { /* controller command byte */
    PS2_MODE_KBD_INT = 0x01,
    PS2_MODE_AUX_INT = 0x02,
    PS2_MODE_SYS = 0x04,
    PS2_MODE_KBD_OFF = 0x10,
    PS2_MODE_AUX_OFF = 0x20,
    PS2_MODE_TRANSLATE = 0x40
};
enum { PS2_OUT_RESET_N = 0x01, PS2_OUT_A20 = 0x02, PS2_OUT_OBF = 0x10, PS2_OUT_AUX = 0x20 };
enum { PS2_ACK = 0xFA, PS2_RESEND = 0xFE, PS2_BAT_OK = 0xAA };

struct ps2_queue {
    uint8_t data[PS2_QUEUE];
    unsigned head, count;
};
struct ps2_keyboard {
    struct ps2_queue replies, events;
    uint8_t command; /* waits for its parameter, 0 = none */
    uint8_t set;     /* scan code set, 1-3 */
    uint8_t leds, rate;
    bool scanning;
    bool all_break;  /* set 3: every key sends a break code */
    uint8_t last;    /* for RESEND */
};
struct ps2_mouse {
    struct ps2_queue replies, events;
    uint8_t command;
    uint8_t id; /* 0, 3 wheel, 4 five buttons */
    uint8_t rate, resolution, knock[3];
    bool enabled, remote, wrap, scaling;
    int dx, dy, dz; /* not yet sent; right, up, wheel towards the user */
    uint8_t buttons, sent_buttons; /* bit 0 left, 1 right, 2 middle, 3 and 4 the side ones */
    uint8_t last;
};
struct ps2 {
    struct device dev;
    struct region data_port, command_port;
    struct irq irq1, irq12;
    struct input_sink sink;
    struct timer byte_timer;
    int64_t hold_until_ns; /* next event byte not before this */
    uint8_t status, mode, output, output_port;
    uint8_t command; /* of the controller, waiting for its data byte; 0 = none */
    uint8_t ram[32];
    struct ps2_queue answers;     /* the controller's own bytes */
    struct ps2_queue aux_answers; /* bytes that it passes off as the mouse's (command D3h) */
    bool break_prefix;        /* translation has swallowed an F0h */
    struct ps2_keyboard kbd;
    struct ps2_mouse mouse;
};

/* ORDER ps2_translate: index is a set 2 code, value the set 1 code; codes from 85h on stay as they are. */
static const uint8_t ps2_translate[0x85] = {
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59, 0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02,
    0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B, 0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13,
    0x06, 0x5D, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F, 0x6B, 0x33, 0x25, 0x17, 0x18,
    0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61, 0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B,
    0x75, 0x2B, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F, 0x52, 0x53, 0x50,
    0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54,
};
/* Set 3 codes of the plain keys, by set 1 code; 0 = the key does not exist there. */
static const uint8_t ps2_set3[0x59] = {
    0x00, 0x08, 0x16, 0x1E, 0x26, 0x25, 0x2E, 0x36, 0x3D, 0x3E, 0x46, 0x45, 0x4E, 0x55, 0x66, 0x0D, 0x15, 0x1D, 0x24, 0x2D, 0x2C, 0x35, 0x3C,
    0x43, 0x44, 0x4D, 0x54, 0x5B, 0x5A, 0x11, 0x1C, 0x1B, 0x23, 0x2B, 0x34, 0x33, 0x3B, 0x42, 0x4B, 0x4C, 0x52, 0x0E, 0x12, 0x5C, 0x1A, 0x22,
    0x21, 0x2A, 0x32, 0x31, 0x3A, 0x41, 0x49, 0x4A, 0x59, 0x7E, 0x19, 0x29, 0x14, 0x07, 0x0F, 0x17, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x47, 0x4F,
    0x76, 0x5F, 0x6C, 0x75, 0x7D, 0x84, 0x6B, 0x73, 0x74, 0x7C, 0x69, 0x72, 0x7A, 0x70, 0x71, 0x57, 0x00, 0x13, 0x56, 0x5E,
};
static const struct {
    uint8_t set1, set3;
} ps2_set3_extended[] = {
    { 0x1C, 0x79 }, { 0x1D, 0x58 }, { 0x35, 0x4A }, { 0x37, 0x57 }, { 0x38, 0x39 }, { 0x46, 0x62 }, { 0x47, 0x6E }, { 0x48, 0x63 }, { 0x49, 0x6F },
    { 0x4B, 0x61 }, { 0x4D, 0x6A }, { 0x4F, 0x65 }, { 0x50, 0x60 }, { 0x51, 0x6D }, { 0x52, 0x67 }, { 0x53, 0x64 }, { 0x5B, 0x8B }, { 0x5C, 0x8C },
    { 0x5D, 0x8D },
};

static void ps2_put(struct ps2_queue *q, uint8_t byte)
{
    if (q->count < PS2_QUEUE)
        q->data[(q->head + q->count++) % PS2_QUEUE] = byte;
}

/* All of them, or none when the queue is too full (invariant 2). */
static void ps2_put_all(struct ps2_queue *q, const uint8_t *bytes, unsigned n)
{
    unsigned i;
    if (PS2_QUEUE - q->count < n)
        return;
    for (i = 0; i < n; i++)
        ps2_put(q, bytes[i]);
}

static uint8_t ps2_take(struct ps2_queue *q)
{
    uint8_t v = q->data[q->head];
    q->head = (q->head + 1) % PS2_QUEUE;
    q->count--;
    return v;
}

static void ps2_clear(struct ps2_queue *q) { q->head = q->count = 0; }

/* ---- keyboard ---- */

static uint8_t ps2_set2_of(uint8_t set1)
{
    unsigned i;
    for (i = sizeof ps2_translate; i-- > 1;) /* downward: F7 is 83h, not 02h; SysRq is 84h */
        if (ps2_translate[i] == set1)
            return (uint8_t)i;
    return 0;
}

static unsigned ps2_encode_set1(uint8_t *out, uint8_t code, bool extended, bool down)
{
    unsigned n = 0;
    if (extended)
        out[n++] = 0xE0;
    out[n++] = (uint8_t)(code | (down ? 0 : 0x80));
    return n;
}

static unsigned ps2_encode_set2(uint8_t *out, uint8_t code, bool extended, bool down)
{
    unsigned n = 0;
    uint8_t s = ps2_set2_of(code);
    if (!s)
        return 0;
    if (extended)
        out[n++] = 0xE0;
    if (!down)
        out[n++] = 0xF0;
    out[n++] = s;
    return n;
}

static unsigned ps2_encode_set3(const struct ps2_keyboard *k, uint8_t *out, uint8_t code, bool extended, bool down)
{
    unsigned n = 0, i;
    uint8_t s = 0;
    bool modifier = code == 0x1D || code == 0x38 || code == 0x2A || code == 0x36 || code == 0x3A;
    if (extended) {
        for (i = 0; i < EMU_ARRAY_LEN(ps2_set3_extended); i++)
            if (ps2_set3_extended[i].set1 == code)
                s = ps2_set3_extended[i].set3;
    } else if (code < sizeof ps2_set3) {
        s = ps2_set3[code];
    }
    if (!s || (!down && !modifier && !k->all_break))
        return 0;
    if (!down)
        out[n++] = 0xF0;
    out[n++] = s;
    return n;
}

/* Keys whose codes are sequences of their own: Pause and Print Screen. */
static unsigned ps2_encode_special(const struct ps2_keyboard *k, uint8_t *out, int key, bool down)
{
    static const uint8_t pause1[] = { 0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5 };
    static const uint8_t pause2[] = { 0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77 };
    static const uint8_t print1[2][4] = { { 0xE0, 0xB7, 0xE0, 0xAA }, { 0xE0, 0x2A, 0xE0, 0x37 } };
    static const uint8_t print2_make[] = { 0xE0, 0x12, 0xE0, 0x7C };
    static const uint8_t print2_break[] = { 0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12 };
    const uint8_t *from;
    unsigned n;
    if (key == 0xC6 && !down) /* Pause has no break code */
        return 0;
    if (key == 0xC6) {
        from = k->set == 1 ? pause1 : pause2;
        n = k->set == 1 ? sizeof pause1 : sizeof pause2;
    } else if (k->set == 1) {
        from = print1[down];
        n = sizeof print1[0];
    } else {
        from = down ? print2_make : print2_break;
        n = down ? sizeof print2_make : sizeof print2_break;
    }
    memcpy(out, from, n);
    return n;
}

static void ps2_update(struct ps2 *p);

static void ps2_key(void *opaque, int key, bool down)
{
    struct ps2 *p = opaque;
    struct ps2_keyboard *k = &p->kbd;
    uint8_t bytes[8], code = (uint8_t)(key & 0x7F);
    bool extended = (key & 0x80) != 0;
    unsigned n;
    if (!k->scanning || !code)
        return;
    if ((key == 0xC6 || key == 0xB7) && k->set != 3)
        n = ps2_encode_special(k, bytes, key, down);
    else if (k->set == 1)
        n = ps2_encode_set1(bytes, code, extended, down);
    else if (k->set == 2)
        n = ps2_encode_set2(bytes, code, extended, down);
    else
        n = ps2_encode_set3(k, bytes, code, extended, down);
    ps2_put_all(&k->events, bytes, n);
    ps2_update(p);
}

static void ps2_keyboard_defaults(struct ps2_keyboard *k)
{
    k->set = 2;
    k->rate = 0x2B; /* 10.9 characters a second after 500 ms */
    k->all_break = false;
    k->command = 0;
    ps2_clear(&k->events);
}

static void ps2_keyboard_parameter(struct ps2_keyboard *k, uint8_t v)
{
    uint8_t command = k->command;
    k->command = 0;
    ps2_put(&k->replies, PS2_ACK);
    switch (command) {
    case 0xED: k->leds = v & 7; break;
    case 0xF0:
        if (!v)
            ps2_put(&k->replies, k->set);
        else if (v <= 3)
            k->set = v;
        ps2_clear(&k->events);
        break;
    case 0xF3: k->rate = v & 0x7F; break;
    default: k->command = command; break; /* FBh-FDh: a list of keys, ended by the next command */
    }
}

static void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t v)
{
    ps2_clear(&k->replies);
    if (k->command && v < 0xED) {
        ps2_keyboard_parameter(k, v);
        return;
    }
    k->command = 0;
    switch (v) {
    case 0xEE: ps2_put(&k->replies, 0xEE); break;
    case 0xED:
    case 0xF0:
    case 0xF3:
    case 0xFB:
    case 0xFC:
    case 0xFD:
        k->command = v;
        ps2_put(&k->replies, PS2_ACK);
        break;
    case 0xF2:
        ps2_put(&k->replies, PS2_ACK);
        ps2_put(&k->replies, 0xAB); /* MF2 keyboard */
        ps2_put(&k->replies, 0x83);
        break;
    case 0xF4:
    case 0xF5:
    case 0xF6:
        if (v == 0xF4)
            ps2_clear(&k->events);
        else
            ps2_keyboard_defaults(k);
        k->scanning = v != 0xF5;
        ps2_put(&k->replies, PS2_ACK);
        break;
    case 0xF7:
    case 0xF8:
    case 0xF9:
    case 0xFA:
        k->all_break = v == 0xF8 || v == 0xFA;
        ps2_put(&k->replies, PS2_ACK);
        break;
    case 0xFE: ps2_put(&k->replies, k->last); break;
    case 0xFF:
        ps2_keyboard_defaults(k);
        k->leds = 0;
        k->scanning = true;
        ps2_put(&k->replies, PS2_ACK);
        ps2_put(&k->replies, PS2_BAT_OK);
        break;
    default: ps2_put(&k->replies, PS2_RESEND); break;
    }
}

/* ---- mouse ---- */

static int ps2_clamp(int v) { return v > 127 ? 127 : v < -127 ? -127 : v; }

static void ps2_mouse_packet(struct ps2_mouse *m, struct ps2_queue *q)
{
    uint8_t bytes[4];
    int dx = ps2_clamp(m->dx), dy = ps2_clamp(m->dy), dz = m->dz > 7 ? 7 : m->dz < -7 ? -7 : m->dz;
    unsigned n = 3;
    bytes[0] = (uint8_t)(0x08 | (m->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0));
    bytes[1] = (uint8_t)(dx & 0xFF);
    bytes[2] = (uint8_t)(dy & 0xFF);
    if (m->id == 3)
        bytes[n++] = (uint8_t)(dz & 0xFF);
    else if (m->id == 4)
        bytes[n++] = (uint8_t)((dz & 15) | (m->buttons & 0x18) << 1);
    m->dx -= dx;
    m->dy -= dy;
    m->dz = m->id ? m->dz - dz : 0;
    m->sent_buttons = m->buttons;
    ps2_put_all(q, bytes, n);
}

/* Stream mode: a packet when there is something to say and the last one has been fetched. */
static void ps2_mouse_stream(struct ps2_mouse *m)
{
    if (m->enabled && !m->remote && !m->wrap && !m->events.count && (m->dx || m->dy || m->dz || m->buttons != m->sent_buttons))
        ps2_mouse_packet(m, &m->events);
}

static void ps2_mouse_moved(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    struct ps2 *p = opaque;
    struct ps2_mouse *m = &p->mouse;
    const int far = 4096; /* a guest that stops reading does not get an endless slide afterwards */
    if (!m->enabled && !m->remote)
        return;
    m->dx = EMU_MAX(EMU_MIN(m->dx + dx, far), -far);
    m->dy = EMU_MAX(EMU_MIN(m->dy - dy, far), -far);
    m->dz = EMU_MAX(EMU_MIN(m->dz - dz, far), -far); /* dz counts away from the user, the wire towards him */
    if (m->sent_buttons != (uint8_t)(buttons & 0x1F) && m->enabled && !m->remote && !m->wrap && PS2_QUEUE - m->events.count >= 4) {
        m->buttons = (uint8_t)(buttons & 0x1F);
        ps2_mouse_packet(m, &m->events);
    }
    m->buttons = (uint8_t)(buttons & 0x1F);
    ps2_mouse_stream(m);
    ps2_update(p);
}

static void ps2_mouse_defaults(struct ps2_mouse *m)
{
    m->rate = 100;
    m->resolution = 2; /* 4 counts a millimetre */
    m->enabled = m->remote = m->wrap = m->scaling = false;
    m->dx = m->dy = m->dz = 0;
    m->command = 0;
    ps2_clear(&m->events);
}

/* Three rates in a row change the mouse's kind: 200, 100, 80 a wheel; 200, 200, 80 (then) five buttons. */
static void ps2_mouse_knock(struct ps2_mouse *m, uint8_t rate)
{
    m->knock[0] = m->knock[1];
    m->knock[1] = m->knock[2];
    m->knock[2] = rate;
    if (m->knock[0] == 200 && m->knock[1] == 100 && m->knock[2] == 80 && m->id < 3)
        m->id = 3;
    else if (m->knock[0] == 200 && m->knock[1] == 200 && m->knock[2] == 80)
        m->id = 4;
}

static void ps2_mouse_status(struct ps2_mouse *m)
{
    ps2_put(&m->replies, (uint8_t)((m->remote ? 0x40 : 0) | (m->enabled ? 0x20 : 0) | (m->scaling ? 0x10 : 0) | (m->buttons & 1 ? 4 : 0) |
                                   (m->buttons & 4 ? 2 : 0) | (m->buttons & 2 ? 1 : 0)));
    ps2_put(&m->replies, m->resolution);
    ps2_put(&m->replies, m->rate);
}

static void ps2_mouse_write(struct ps2_mouse *m, uint8_t v)
{
    ps2_clear(&m->replies);
    if (m->wrap && v != 0xFF && v != 0xEC) { /* echo mode */
        ps2_put(&m->replies, v);
        return;
    }
    if (m->command) {
        if (m->command == 0xF3) {
            m->rate = v;
            ps2_mouse_knock(m, v);
        } else {
            m->resolution = v & 3;
        }
        m->command = 0;
        ps2_put(&m->replies, PS2_ACK);
        return;
    }
    ps2_put(&m->replies, PS2_ACK);
    switch (v) {
    case 0xE6: m->scaling = false; break;
    case 0xE7: m->scaling = true; break;
    case 0xE8:
    case 0xF3: m->command = v; break;
    case 0xE9: ps2_mouse_status(m); break;
    case 0xEA: m->remote = false; break;
    case 0xEB: ps2_mouse_packet(m, &m->replies); break;
    case 0xEC: m->wrap = false; break;
    case 0xEE: m->wrap = true; break;
    case 0xF0: m->remote = true; break;
    case 0xF2: ps2_put(&m->replies, m->id); break;
    case 0xF4: m->enabled = true; break;
    case 0xF5:
        m->enabled = false;
        ps2_clear(&m->events);
        break;
    case 0xF6: ps2_mouse_defaults(m); break;
    case 0xFE:
        ps2_clear(&m->replies);
        ps2_put(&m->replies, m->last);
        break;
    case 0xFF:
        ps2_mouse_defaults(m);
        m->id = 0;
        memset(m->knock, 0, sizeof m->knock);
        ps2_put(&m->replies, PS2_BAT_OK);
        ps2_put(&m->replies, 0x00);
        break;
    default:
        ps2_clear(&m->replies);
        ps2_put(&m->replies, PS2_RESEND);
        break;
    }
}

/* ---- controller: output buffer ---- */

static void ps2_update_irq(struct ps2 *p)
{
    bool full = (p->status & PS2_STATUS_OBF) != 0, aux = (p->status & PS2_STATUS_AUX) != 0;
    irq_set(&p->irq1, full && !aux && (p->mode & PS2_MODE_KBD_INT));
    irq_set(&p->irq12, full && aux && (p->mode & PS2_MODE_AUX_INT));
}

static void ps2_load(struct ps2 *p, uint8_t byte, bool aux)
{
    p->output = byte;
    p->status = (uint8_t)((p->status & ~PS2_STATUS_AUX) | PS2_STATUS_OBF | (aux ? PS2_STATUS_AUX : 0));
}

/* The next byte of the keyboard, translated if the mode byte says so; false: there is none. */
static bool ps2_keyboard_byte(struct ps2 *p, uint8_t *out)
{
    struct ps2_keyboard *k = &p->kbd;
    while (k->replies.count || k->events.count) {
        uint8_t v = ps2_take(k->replies.count ? &k->replies : &k->events);
        k->last = v;
        if (p->mode & PS2_MODE_TRANSLATE) {
            if (v == 0xF0) {
                p->break_prefix = true;
                continue;
            }
            if (v < sizeof ps2_translate)
                v = ps2_translate[v];
            if (p->break_prefix)
                v |= 0x80;
            p->break_prefix = false;
        }
        *out = v;
        return true;
    }
    return false;
}

static void ps2_update(struct ps2 *p)
{
    uint8_t v;
    if (p->status & PS2_STATUS_OBF)
        return;
    if (p->answers.count) {
        ps2_load(p, ps2_take(&p->answers), false);
    } else if (p->aux_answers.count) {
        ps2_load(p, ps2_take(&p->aux_answers), true);
    } else {
        bool kbd = !(p->mode & PS2_MODE_KBD_OFF) && (p->kbd.replies.count || p->kbd.events.count);
        bool aux = !(p->mode & PS2_MODE_AUX_OFF) && (p->mouse.replies.count || p->mouse.events.count);
        bool reply = (kbd && p->kbd.replies.count) || (aux && p->mouse.replies.count); /* firmware reads those in one go */
        if (!kbd && !aux)
            return;
        if (!reply && emu_now_ns(p->dev.emu) < p->hold_until_ns) {
            timer_arm(&p->byte_timer, p->hold_until_ns);
            return;
        }
        if (kbd && ps2_keyboard_byte(p, &v)) {
            ps2_load(p, v, false);
        } else if (aux) {
            v = ps2_take(p->mouse.replies.count ? &p->mouse.replies : &p->mouse.events);
            p->mouse.last = v;
            ps2_load(p, v, true);
            ps2_mouse_stream(&p->mouse);
        }
    }
    ps2_update_irq(p);
}

static void ps2_byte_time(void *opaque) { ps2_update(opaque); }

static uint64_t ps2_read_data(void *opaque, uint64_t offset, unsigned size)
{
    struct ps2 *p = opaque;
    uint8_t v = p->output;
    (void)offset, (void)size;
    if (p->status & PS2_STATUS_OBF) {
        p->status &= (uint8_t) ~(PS2_STATUS_OBF | PS2_STATUS_AUX);
        ps2_update_irq(p);
        p->hold_until_ns = emu_now_ns(p->dev.emu) + PS2_BYTE_NS;
        ps2_update(p);
    }
    return v;
}

static uint64_t ps2_read_status(void *opaque, uint64_t offset, unsigned size)
{
    (void)offset, (void)size;
    return ((struct ps2 *)opaque)->status;
}

/* ---- controller: commands ---- */

static void ps2_write_output_port(struct ps2 *p, uint8_t v)
{
    p->output_port = v;
    chipset_set_a20(p->dev.emu, (v & PS2_OUT_A20) != 0);
    if (!(v & PS2_OUT_RESET_N))
        emu_request(p->dev.emu, REQ_RESET);
}

static uint8_t ps2_read_output_port(const struct ps2 *p)
{
    uint8_t v = (uint8_t)((p->output_port & ~(PS2_OUT_A20 | PS2_OUT_OBF | PS2_OUT_AUX)) | PS2_OUT_RESET_N);
    if (chipset_get_a20(p->dev.emu))
        v |= PS2_OUT_A20;
    if (p->status & PS2_STATUS_OBF)
        v |= p->status & PS2_STATUS_AUX ? PS2_OUT_AUX : PS2_OUT_OBF;
    return v;
}

static void ps2_set_mode(struct ps2 *p, uint8_t v)
{
    p->mode = p->ram[0] = v;
    p->status = (uint8_t)((p->status & ~PS2_STATUS_SYS) | (v & PS2_MODE_SYS));
    ps2_update_irq(p);
    ps2_update(p);
}

static void ps2_answer(struct ps2 *p, uint8_t v)
{
    ps2_put(&p->answers, v);
    ps2_update(p);
}

static void ps2_write_command(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ps2 *p = opaque;
    uint8_t v = (uint8_t)value;
    (void)offset, (void)size;
    p->status |= PS2_STATUS_COMMAND;
    p->command = 0;
    if (v >= 0x20 && v <= 0x3F) {
        ps2_answer(p, v == 0x20 ? p->mode : p->ram[v & 0x1F]);
        return;
    }
    if (v >= 0xF0) { /* pulses output lines low where a bit is 0: only the reset line is wired */
        if (!(v & 1))
            emu_request(p->dev.emu, REQ_RESET);
        return;
    }
    switch (v) {
    case 0xA4: ps2_answer(p, 0xF1); break; /* no password */
    case 0xA7: ps2_set_mode(p, p->mode | PS2_MODE_AUX_OFF); break;
    case 0xA8: ps2_set_mode(p, p->mode & (uint8_t)~PS2_MODE_AUX_OFF); break;
    case 0xA9: ps2_answer(p, 0x00); break;
    case 0xAA:
        p->status |= PS2_STATUS_SYS;
        p->mode |= PS2_MODE_SYS;
        ps2_answer(p, 0x55);
        break;
    case 0xAB: ps2_answer(p, 0x00); break;
    case 0xAD: ps2_set_mode(p, p->mode | PS2_MODE_KBD_OFF); break;
    case 0xAE: ps2_set_mode(p, p->mode & (uint8_t)~PS2_MODE_KBD_OFF); break;
    case 0xC0: ps2_answer(p, 0x80); break; /* keyboard not locked */
    case 0xD0: ps2_answer(p, ps2_read_output_port(p)); break;
    case 0xDD: chipset_set_a20(p->dev.emu, false); break; /* HP Vectra's short forms, widely used */
    case 0xDF: chipset_set_a20(p->dev.emu, true); break;
    case 0xE0: ps2_answer(p, 0x00); break;
    case 0xD1:
    case 0xD2:
    case 0xD3:
    case 0xD4: p->command = v; break;
    default:
        if (v >= 0x60 && v <= 0x7F)
            p->command = v;
        else
            emu_log(p->dev.emu, LOG_GUEST_ERROR, "i8042: command %#x is unknown", v);
    }
}

static void ps2_write_data(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ps2 *p = opaque;
    uint8_t v = (uint8_t)value, command = p->command;
    (void)offset, (void)size;
    p->status &= (uint8_t)~PS2_STATUS_COMMAND;
    p->command = 0;
    switch (command) {
    case 0: /* to the keyboard; the clock line is released for it, which enables the interface */
        p->mode &= (uint8_t)~PS2_MODE_KBD_OFF;
        p->break_prefix = false;
        ps2_keyboard_write(&p->kbd, v);
        p->hold_until_ns = 0;
        break;
    case 0x60: ps2_set_mode(p, v); return;
    case 0xD1: ps2_write_output_port(p, v); return;
    case 0xD2: ps2_answer(p, v); return;
    case 0xD3: ps2_put(&p->aux_answers, v); break; /* also with the mouse's interface off: Linux probes that way */
    case 0xD4:
        p->mode &= (uint8_t)~PS2_MODE_AUX_OFF;
        ps2_mouse_write(&p->mouse, v);
        p->hold_until_ns = 0;
        break;
    default: p->ram[command & 0x1F] = v; return;
    }
    ps2_update(p);
}

/* ---- device ---- */

static const struct region_ops ps2_data_ops = { ps2_read_data, ps2_write_data, 1, 1, true };
static const struct region_ops ps2_command_ops = { ps2_read_status, ps2_write_command, 1, 1, true };

static void ps2_reset(struct device *dev)
{
    struct ps2 *p = (struct ps2 *)dev;
    timer_cancel(&p->byte_timer);
    p->hold_until_ns = 0;
    p->status = PS2_STATUS_COMMAND | PS2_STATUS_UNLOCKED;
    p->mode = PS2_MODE_KBD_INT | PS2_MODE_AUX_INT | PS2_MODE_TRANSLATE;
    p->output = p->command = 0;
    p->output_port = PS2_OUT_RESET_N;
    p->break_prefix = false;
    memset(p->ram, 0, sizeof p->ram);
    memset(&p->answers, 0, sizeof p->answers);
    memset(&p->aux_answers, 0, sizeof p->aux_answers);
    memset(&p->kbd, 0, sizeof p->kbd);
    memset(&p->mouse, 0, sizeof p->mouse);
    ps2_keyboard_defaults(&p->kbd);
    p->kbd.scanning = true;
    ps2_mouse_defaults(&p->mouse);
    ps2_update_irq(p);
}

static int ps2_create(struct device *dev, struct options *opts, struct err *err)
{
    struct ps2 *p = (struct ps2 *)dev;
    int r;
    (void)opts;
    timer_init(&p->byte_timer, dev->emu, ps2_byte_time, p);
    p->irq1 = board_gsi(dev->emu, 1);
    p->irq12 = board_gsi(dev->emu, 12);
    r = port_add(dev->emu, &p->data_port, "i8042 data", 0x60, 1, &ps2_data_ops, p);
    if (!r)
        r = port_add(dev->emu, &p->command_port, "i8042 command", 0x64, 1, &ps2_command_ops, p);
    if (r)
        return err_set(err, r, "i8042: ports 60h and 64h are taken");
    ps2_reset(dev);
    p->sink.key = ps2_key;
    p->sink.mouse = ps2_mouse_moved;
    p->sink.opaque = p;
    input_add(dev->emu, &p->sink);
    return 0;
}

static void ps2_destroy(struct device *dev)
{
    struct ps2 *p = (struct ps2 *)dev;
    struct input_sink **link;
    timer_cancel(&p->byte_timer);
    region_remove(dev->emu, &dev->emu->ports, &p->data_port);
    region_remove(dev->emu, &dev->emu->ports, &p->command_port);
    for (link = &dev->emu->inputs; *link; link = &(*link)->next)
        if (*link == &p->sink) {
            *link = p->sink.next;
            break;
        }
}

EMU_PRIV const struct device_class ps2_class = {
    .name = "i8042", .bus = "isa", .help = "keyboard controller with PS/2 keyboard and wheel mouse",
    .instance_size = sizeof(struct ps2), .create = ps2_create, .reset = ps2_reset, .destroy = ps2_destroy,
};
#undef PS2_BYTE_NS
#undef PS2_QUEUE
