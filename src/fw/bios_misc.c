/* fw/bios_misc.c - BIOS services other than disk and video: timer, keyboard, mouse, serial, printer, memory, clock.
 *
 * Models     INT 08h, 09h, 11h, 12h, 14h-17h, 1Ah, 70h, 74h of the AT and PS/2 BIOS; INT 15h E820h/E801h of ACPI 6 §15; APM 1.2 in part.
 * Contract   bios.c's dispatcher calls fw_intNN() with the caller's registers; each returns an enum fw_command.
 * Theory     A service runs to its end inside one port read. What has to wait returns fw_wait() and is run again with the frame it left:
 *            the phase (0 at entry) tells how far it came, `state` holds a deadline.
 *            Hardware is reached by the same ports that a guest uses, so that the devices end in the state that a BIOS leaves.
 * Invariants those of fw.h.
 * Missing    Pause key, Sys Rq, INT 15h/89h (switch to protected mode), APM's protected-mode entries: refused as the AT refuses them.
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "../dev/dev.h"
#include "fw.h"

/* ================= INT 08h: timer tick; INT 70h: RTC; INT 1Ah: time ================= */

EMU_PRIV unsigned fw_int08(struct fw *fw, struct fw_regs *r)
{
    if (fw_phase(r) == 0) {
        uint32_t ticks = fw_ld32(fw, BDA_TICKS) + 1;
        unsigned motor = fw_ld8(fw, BDA_FLOPPY_MOTOR_TIMEOUT);
        if (ticks >= FW_TICKS_PER_DAY) {
            ticks = 0;
            fw_st8(fw, BDA_MIDNIGHT, fw_ld8(fw, BDA_MIDNIGHT) + 1u);
        }
        fw_st32(fw, BDA_TICKS, ticks);
        if (motor) {
            fw_st8(fw, BDA_FLOPPY_MOTOR_TIMEOUT, motor - 1);
            if (motor == 1) {
                fw_st8(fw, BDA_FLOPPY_MOTOR, fw_ld8(fw, BDA_FLOPPY_MOTOR) & 0xF0u);
                fw_outb(fw, 0x3F2, 0x0C);
            }
        }
        if (!fw_vector_is_ours(fw, 0x1C)) {
            fw_set_phase(r, 1);
            return FW_CALL | 0x1Cu << 8;
        }
    }
    fw_eoi(fw, 0);
    return FW_DONE;
}

static unsigned fw_bcd(unsigned v) { return (v >> 4) * 10 + (v & 15); }

EMU_PRIV void fw_clock_init(struct fw *fw)
{
    uint64_t seconds;
    fw_cmos_set(fw, 0x0A, 0x26); /* 32768 Hz, 1024 Hz periodic */
    fw_cmos_set(fw, 0x0B, 0x02); /* BCD, 24 hours */
    (void)fw_cmos(fw, 0x0C);
    (void)fw_cmos(fw, 0x0D);
    seconds = fw_bcd(fw_cmos(fw, 4)) * 3600u + fw_bcd(fw_cmos(fw, 2)) * 60u + fw_bcd(fw_cmos(fw, 0));
    seconds %= 86400;
    fw_st32(fw, BDA_TICKS, (uint32_t)(seconds * 1193182 / 65536)); /* PIT rate over its full count */
}

/* Periodic interrupt counts down the wait of INT 15h/83h by 976 us; alarm goes to INT 4Ah. */
EMU_PRIV unsigned fw_int70(struct fw *fw, struct fw_regs *r)
{
    unsigned cause = 0;
    if (fw_phase(r) == 0) {
        unsigned b = fw_cmos(fw, 0x0B);
        cause = fw_cmos(fw, 0x0C) & b;
        if ((cause & 0x40) && (fw_ld8(fw, BDA_WAIT_ACTIVE) & 1)) {
            uint32_t left = fw_ld32(fw, BDA_WAIT_COUNT);
            if (left > 976)
                fw_st32(fw, BDA_WAIT_COUNT, left - 976);
            else {
                uint32_t user = fw_ld32(fw, BDA_WAIT_USER), lin = ((user >> 16) << 4) + (user & 0xFFFF);
                fw_st8(fw, BDA_WAIT_ACTIVE, 0);
                fw_cmos_set(fw, 0x0B, b & ~0x40u);
                fw_st8(fw, lin, fw_ld8(fw, lin) | 0x80u);
            }
        }
        if ((cause & 0x20) && !fw_vector_is_ours(fw, 0x4A)) {
            fw_set_phase(r, 1);
            return FW_CALL | 0x4Au << 8;
        }
    }
    fw_eoi(fw, 8);
    return FW_DONE;
}

static unsigned fw_rtc_service(struct fw *fw, struct fw_regs *r)
{
    unsigned b;
    if (fw_cmos(fw, 0x0A) & 0x80) /* update in progress: under 2 ms */
        return FW_POLL;
    b = fw_cmos(fw, 0x0B);
    switch (fw_hi(r->eax)) {
    case 2:
        fw_put_hi(&r->edx, fw_cmos(fw, 0));
        fw_put_lo(&r->ecx, fw_cmos(fw, 2));
        fw_put_hi(&r->ecx, fw_cmos(fw, 4));
        fw_put_lo(&r->edx, b & 1);
        fw_put_lo(&r->eax, fw_hi(r->ecx));
        break;
    case 3:
        fw_cmos_set(fw, 0x0B, b | 0x80);
        fw_cmos_set(fw, 0, fw_hi(r->edx));
        fw_cmos_set(fw, 2, fw_lo(r->ecx));
        fw_cmos_set(fw, 4, fw_hi(r->ecx));
        b = (b & 0x60u) | 0x02u | (fw_lo(r->edx) & 1u);
        fw_cmos_set(fw, 0x0B, b);
        fw_put_lo(&r->eax, b);
        break;
    case 4:
        fw_put_lo(&r->ecx, fw_cmos(fw, 9));
        fw_put_hi(&r->edx, fw_cmos(fw, 8));
        fw_put_lo(&r->edx, fw_cmos(fw, 7));
        fw_put_hi(&r->ecx, fw_cmos(fw, 0x32));
        fw_put_lo(&r->eax, fw_hi(r->ecx));
        break;
    case 5:
        fw_cmos_set(fw, 0x0B, b | 0x80);
        fw_cmos_set(fw, 9, fw_lo(r->ecx));
        fw_cmos_set(fw, 8, fw_hi(r->edx));
        fw_cmos_set(fw, 7, fw_lo(r->edx));
        fw_cmos_set(fw, 0x32, fw_hi(r->ecx));
        b &= 0x7F;
        fw_cmos_set(fw, 0x0B, b);
        fw_put_lo(&r->eax, b);
        break;
    case 6:
        if (b & 0x20) { /* one is set already */
            fw_put_x(&r->eax, 0);
            fw_set_cf(r, true);
            return FW_DONE;
        }
        fw_cmos_set(fw, 1, fw_hi(r->edx));
        fw_cmos_set(fw, 3, fw_lo(r->ecx));
        fw_cmos_set(fw, 5, fw_hi(r->ecx));
        fw_outb(fw, 0xA1, fw_inb(fw, 0xA1) & 0xFEu);
        fw_cmos_set(fw, 0x0B, (b & 0x5Fu) | 0x20u);
        break;
    default: /* 7 */
        fw_cmos_set(fw, 0x0B, b & 0x57u);
        fw_put_lo(&r->eax, b);
        break;
    }
    fw_put_hi(&r->eax, 0);
    fw_set_cf(r, false);
    return FW_DONE;
}

EMU_PRIV unsigned fw_int1a(struct fw *fw, struct fw_regs *r)
{
    switch (fw_hi(r->eax)) {
    case 0: {
        uint32_t ticks = fw_ld32(fw, BDA_TICKS);
        fw_put_x(&r->ecx, ticks >> 16);
        fw_put_x(&r->edx, ticks & 0xFFFF);
        fw_put_x(&r->eax, fw_ld8(fw, BDA_MIDNIGHT));
        fw_st8(fw, BDA_MIDNIGHT, 0);
        fw_set_cf(r, false);
        return FW_DONE;
    }
    case 1:
        fw_st32(fw, BDA_TICKS, (r->ecx & 0xFFFF) << 16 | (r->edx & 0xFFFF));
        fw_st8(fw, BDA_MIDNIGHT, 0);
        fw_put_hi(&r->eax, 0);
        fw_set_cf(r, false);
        return FW_DONE;
    case 2: case 3: case 4: case 5: case 6: case 7:
        return fw_rtc_service(fw, r);
    case 0xB1:
        return fw_pcibios(fw, r);
    default: /* BBh (TCG) and others */
        fw_set_cf(r, true);
        return FW_DONE;
    }
}

/* ================= INT 09h, 16h: keyboard ================= */

/* Key words (scan code << 8 | character) plain, with Shift, Ctrl, Alt for set 1 codes 01h-58h; 0: nothing. */
struct fw_key {
    uint16_t plain, shift, ctrl, alt;
};
#define FW_LETTER(scan, ch) { (scan) << 8 | (ch), (scan) << 8 | ((ch) - 32), (scan) << 8 | ((ch) - 96), (scan) << 8 }
#define FW_FN(scan, n) { (scan) << 8, (0x54 + (n)) << 8, (0x5E + (n)) << 8, (0x68 + (n)) << 8 }
#define FW_NO_KEY { 0, 0, 0, 0 }
static const struct fw_key fw_keys[0x59] = {
    FW_NO_KEY,
    { 0x011B, 0x011B, 0x011B, 0x0100 },
    { 0x0231, 0x0221, 0, 0x7800 }, { 0x0332, 0x0340, 0x0300, 0x7900 }, { 0x0433, 0x0423, 0, 0x7A00 },
    { 0x0534, 0x0524, 0, 0x7B00 }, { 0x0635, 0x0625, 0, 0x7C00 }, { 0x0736, 0x075E, 0x071E, 0x7D00 },
    { 0x0837, 0x0826, 0, 0x7E00 }, { 0x0938, 0x092A, 0, 0x7F00 }, { 0x0A39, 0x0A28, 0, 0x8000 },
    { 0x0B30, 0x0B29, 0, 0x8100 }, { 0x0C2D, 0x0C5F, 0x0C1F, 0x8200 }, { 0x0D3D, 0x0D2B, 0, 0x8300 },
    { 0x0E08, 0x0E08, 0x0E7F, 0x0E00 }, { 0x0F09, 0x0F00, 0x9400, 0xA500 },
    FW_LETTER(0x10, 'q'), FW_LETTER(0x11, 'w'), FW_LETTER(0x12, 'e'), FW_LETTER(0x13, 'r'), FW_LETTER(0x14, 't'),
    FW_LETTER(0x15, 'y'), FW_LETTER(0x16, 'u'), FW_LETTER(0x17, 'i'), FW_LETTER(0x18, 'o'), FW_LETTER(0x19, 'p'),
    { 0x1A5B, 0x1A7B, 0x1A1B, 0x1A00 }, { 0x1B5D, 0x1B7D, 0x1B1D, 0x1B00 }, { 0x1C0D, 0x1C0D, 0x1C0A, 0x1C00 },
    FW_NO_KEY, /* Ctrl */
    FW_LETTER(0x1E, 'a'), FW_LETTER(0x1F, 's'), FW_LETTER(0x20, 'd'), FW_LETTER(0x21, 'f'), FW_LETTER(0x22, 'g'),
    FW_LETTER(0x23, 'h'), FW_LETTER(0x24, 'j'), FW_LETTER(0x25, 'k'), FW_LETTER(0x26, 'l'),
    { 0x273B, 0x273A, 0, 0x2700 }, { 0x2827, 0x2822, 0, 0x2800 }, { 0x2960, 0x297E, 0, 0x2900 },
    FW_NO_KEY, /* left Shift */
    { 0x2B5C, 0x2B7C, 0x2B1C, 0x2B00 },
    FW_LETTER(0x2C, 'z'), FW_LETTER(0x2D, 'x'), FW_LETTER(0x2E, 'c'), FW_LETTER(0x2F, 'v'), FW_LETTER(0x30, 'b'),
    FW_LETTER(0x31, 'n'), FW_LETTER(0x32, 'm'),
    { 0x332C, 0x333C, 0, 0x3300 }, { 0x342E, 0x343E, 0, 0x3400 }, { 0x352F, 0x353F, 0, 0x3500 },
    FW_NO_KEY, /* right Shift */
    { 0x372A, 0x372A, 0x9600, 0x3700 },
    FW_NO_KEY, /* Alt */
    { 0x3920, 0x3920, 0x3920, 0x3920 },
    FW_NO_KEY, /* Caps Lock */
    FW_FN(0x3B, 0), FW_FN(0x3C, 1), FW_FN(0x3D, 2), FW_FN(0x3E, 3), FW_FN(0x3F, 4),
    FW_FN(0x40, 5), FW_FN(0x41, 6), FW_FN(0x42, 7), FW_FN(0x43, 8), FW_FN(0x44, 9),
    FW_NO_KEY, FW_NO_KEY, /* Num Lock, Scroll Lock */
    { 0x4700, 0x4737, 0x7700, 0 }, { 0x4800, 0x4838, 0x8D00, 0 }, { 0x4900, 0x4939, 0x8400, 0 }, { 0x4A2D, 0x4A2D, 0x8E00, 0x4A00 },
    { 0x4B00, 0x4B34, 0x7300, 0 }, { 0x4C00, 0x4C35, 0x8F00, 0 }, { 0x4D00, 0x4D36, 0x7400, 0 }, { 0x4E2B, 0x4E2B, 0x9000, 0x4E00 },
    { 0x4F00, 0x4F31, 0x7500, 0 }, { 0x5000, 0x5032, 0x9100, 0 }, { 0x5100, 0x5133, 0x7600, 0 },
    { 0x5200, 0x5230, 0x9200, 0 }, { 0x5300, 0x532E, 0x9300, 0 },
    FW_NO_KEY, FW_NO_KEY,
    { 0x565C, 0x567C, 0, 0 }, { 0x8500, 0x8700, 0x8900, 0x8B00 }, { 0x8600, 0x8800, 0x8A00, 0x8C00 },
};
#undef FW_LETTER
#undef FW_FN
#undef FW_NO_KEY

/* The same for codes after E0h. */
static const struct fw_ext_key {
    uint8_t scan;
    struct fw_key key;
} fw_ext_keys[] = {
    { 0x1C, { 0xE00D, 0xE00D, 0xE00A, 0xA600 } }, { 0x35, { 0xE02F, 0xE02F, 0x9500, 0xA400 } },
    { 0x47, { 0x47E0, 0x47E0, 0x77E0, 0x9700 } }, { 0x48, { 0x48E0, 0x48E0, 0x8DE0, 0x9800 } },
    { 0x49, { 0x49E0, 0x49E0, 0x84E0, 0x9900 } }, { 0x4B, { 0x4BE0, 0x4BE0, 0x73E0, 0x9B00 } },
    { 0x4D, { 0x4DE0, 0x4DE0, 0x74E0, 0x9D00 } }, { 0x4F, { 0x4FE0, 0x4FE0, 0x75E0, 0x9F00 } },
    { 0x50, { 0x50E0, 0x50E0, 0x91E0, 0xA000 } }, { 0x51, { 0x51E0, 0x51E0, 0x76E0, 0xA100 } },
    { 0x52, { 0x52E0, 0x52E0, 0x92E0, 0xA200 } }, { 0x53, { 0x53E0, 0x53E0, 0x93E0, 0xA300 } },
};

enum { KBD_RSHIFT = 1, KBD_LSHIFT = 2, KBD_CTRL = 4, KBD_ALT = 8, KBD_SCROLL = 16, KBD_NUM = 32, KBD_CAPS = 64, KBD_INS = 128,
       KBD_LCTRL_HELD = 0x100, KBD_LALT_HELD = 0x200, KBD_SCROLL_HELD = 0x1000, KBD_NUM_HELD = 0x2000, KBD_CAPS_HELD = 0x4000, KBD_INS_HELD = 0x8000 };
enum { KBD_MODE_E1 = 1, KBD_MODE_E0 = 2, KBD_MODE_RCTRL = 4, KBD_MODE_RALT = 8, KBD_MODE_101 = 16 };

static bool fw_kbd_put(struct fw *fw, unsigned key)
{
    unsigned start = fw_ld16(fw, BDA_KBD_START), end = fw_ld16(fw, BDA_KBD_END);
    unsigned tail = fw_ld16(fw, BDA_KBD_TAIL), next = tail + 2;
    if (next >= end)
        next = start;
    if (next == fw_ld16(fw, BDA_KBD_HEAD))
        return false;
    fw_st16(fw, 0x400 + tail, key);
    fw_st16(fw, BDA_KBD_TAIL, next);
    return true;
}

EMU_PRIV bool fw_kbd_get(struct fw *fw, uint16_t *key, bool take)
{
    unsigned start = fw_ld16(fw, BDA_KBD_START), end = fw_ld16(fw, BDA_KBD_END), head = fw_ld16(fw, BDA_KBD_HEAD);
    if (head == fw_ld16(fw, BDA_KBD_TAIL))
        return false;
    *key = fw_ld16(fw, 0x400 + head);
    if (take) {
        head += 2;
        fw_st16(fw, BDA_KBD_HEAD, head >= end ? start : head);
    }
    return true;
}

/* Waits, within reason, for the controller to take a byte, then gives it. */
static void fw_kbc_write(struct fw *fw, unsigned port, unsigned value)
{
    int i;
    for (i = 0; i < 100 && (fw_inb(fw, 0x64) & 2); i++)
        ;
    fw_outb(fw, port, value);
}
static int fw_kbc_read(struct fw *fw, unsigned mask)
{
    int i;
    for (i = 0; i < 100; i++) {
        unsigned st = fw_inb(fw, 0x64);
        if (st & 1) {
            unsigned v = fw_inb(fw, 0x60);
            if ((st & 0x20) == mask)
                return (int)v;
        }
    }
    return -1;
}

EMU_PRIV void fw_kbd_init(struct fw *fw)
{
    fw_st16(fw, BDA_KBD_HEAD, 0x1E);
    fw_st16(fw, BDA_KBD_TAIL, 0x1E);
    fw_st16(fw, BDA_KBD_START, 0x1E);
    fw_st16(fw, BDA_KBD_END, 0x3E);
    fw_st8(fw, BDA_KBD_MODE, KBD_MODE_101);
    while (fw_inb(fw, 0x64) & 1 && fw_inb(fw, 0x64) != 0xFF)
        fw_inb(fw, 0x60);
    fw_kbc_write(fw, 0x64, 0xAA); /* controller self test: 55h */
    (void)fw_kbc_read(fw, 0);
    fw_kbc_write(fw, 0x64, 0xAB); /* keyboard interface test: 00h */
    (void)fw_kbc_read(fw, 0);
    fw_kbc_write(fw, 0x64, 0xAE); /* enable keyboard */
    fw_kbc_write(fw, 0x64, 0xA8); /* enable mouse port */
    fw_kbc_write(fw, 0x64, 0x60);
    fw_kbc_write(fw, 0x60, 0x40); /* no interrupts while the keyboard is set up; translation */
    fw_kbc_write(fw, 0x60, 0xF5);
    (void)fw_kbc_read(fw, 0);
    fw_kbc_write(fw, 0x60, 0xF0); /* scan code set 2, translated to 1 */
    (void)fw_kbc_read(fw, 0);
    fw_kbc_write(fw, 0x60, 0x02);
    (void)fw_kbc_read(fw, 0);
    fw_kbc_write(fw, 0x60, 0xF4); /* scan */
    (void)fw_kbc_read(fw, 0);
    fw_kbc_write(fw, 0x64, 0x60);
    fw_kbc_write(fw, 0x60, 0x61); /* translate, mouse clock off, keyboard interrupt on */
}

static void fw_kbd_leds(struct fw *fw, unsigned flags)
{
    unsigned leds = (flags >> 4) & 7, now = fw_ld8(fw, BDA_KBD_LEDS);
    if ((now & 7) == leds)
        return;
    fw_st8(fw, BDA_KBD_LEDS, (now & ~7u) | leds);
    /* The two ACK bytes come back through INT 09h, which ignores them. */
    fw_kbc_write(fw, 0x60, 0xED);
    (void)fw_kbc_read(fw, 0);
    fw_kbc_write(fw, 0x60, leds);
    (void)fw_kbc_read(fw, 0);
}

static unsigned fw_kbd_modifier(unsigned scan, bool e0, unsigned *held)
{
    *held = 0;
    switch (scan) {
    case 0x2A: return e0 ? 0 : KBD_LSHIFT;
    case 0x36: return e0 ? 0 : KBD_RSHIFT;
    case 0x1D: *held = e0 ? 0 : KBD_LCTRL_HELD; return KBD_CTRL;
    case 0x38: *held = e0 ? 0 : KBD_LALT_HELD; return KBD_ALT;
    default: return 0;
    }
}

static void fw_kbd_toggle(struct fw *fw, unsigned flags, unsigned bit, unsigned held)
{
    if (!(flags & held))
        flags ^= bit;
    flags |= held;
    fw_st16(fw, BDA_KBD_FLAGS, flags);
    fw_kbd_leds(fw, flags);
}

static unsigned fw_kbd_translate(struct fw *fw, unsigned scan, bool e0, unsigned flags)
{
    struct fw_key k = { 0, 0, 0, 0 };
    size_t i;
    if (e0) {
        for (i = 0; i < EMU_ARRAY_LEN(fw_ext_keys); i++)
            if (fw_ext_keys[i].scan == scan)
                k = fw_ext_keys[i].key;
    } else if (scan < EMU_ARRAY_LEN(fw_keys))
        k = fw_keys[scan];
    if (flags & KBD_ALT) {
        if (!e0 && scan >= 0x47 && scan <= 0x52 && scan != 0x4A && scan != 0x4E) { /* Alt and keypad: a character by its number */
            unsigned digit = (k.shift & 0xFF) - '0';
            fw_st8(fw, BDA_KBD_ALT_INPUT, fw_ld8(fw, BDA_KBD_ALT_INPUT) * 10u + digit);
            return 0;
        }
        return k.alt;
    }
    if (flags & KBD_CTRL)
        return k.ctrl;
    {
        bool shift = (flags & (KBD_LSHIFT | KBD_RSHIFT)) != 0;
        unsigned ch = k.plain & 0xFF;
        if (!e0 && ch >= 'a' && ch <= 'z' && (flags & KBD_CAPS))
            shift = !shift;
        if (!e0 && scan >= 0x47 && scan <= 0x53 && scan != 0x4A && scan != 0x4E && (flags & KBD_NUM))
            shift = !shift;
        return shift ? k.shift : k.plain;
    }
}

/* One byte from the keyboard. Returns a vector that is to be called (1Bh, 05h), or 0. */
static unsigned fw_kbd_process(struct fw *fw, unsigned code)
{
    unsigned mode = fw_ld8(fw, BDA_KBD_MODE), flags = fw_ld16(fw, BDA_KBD_FLAGS), scan = code & 0x7F, held, modifier, key;
    bool release = (code & 0x80) != 0, e0 = (mode & KBD_MODE_E0) != 0;
    if (code == 0xFA || code == 0xFE || code == 0xEE || code == 0 || code == 0xFF)
        return 0;
    if (code == 0xE0 || code == 0xE1) {
        fw_st8(fw, BDA_KBD_MODE, mode | (code == 0xE0 ? KBD_MODE_E0 : KBD_MODE_E1));
        return 0;
    }
    if (mode & KBD_MODE_E1) { /* Pause: E1 1D 45 E1 9D C5 */
        if (scan == 0x45)
            fw_st8(fw, BDA_KBD_MODE, mode & ~(unsigned)(KBD_MODE_E0 | KBD_MODE_E1));
        return 0;
    }
    mode &= ~(unsigned)KBD_MODE_E0;
    modifier = fw_kbd_modifier(scan, e0, &held);
    if (modifier) {
        unsigned right = e0 ? (modifier == KBD_CTRL ? KBD_MODE_RCTRL : KBD_MODE_RALT) : 0;
        if (release) {
            mode &= ~right;
            flags &= ~held;
            if (modifier & (KBD_LSHIFT | KBD_RSHIFT) || !((modifier == KBD_CTRL && ((flags & KBD_LCTRL_HELD) || (mode & KBD_MODE_RCTRL))) ||
                                                          (modifier == KBD_ALT && ((flags & KBD_LALT_HELD) || (mode & KBD_MODE_RALT)))))
                flags &= ~modifier;
            if (modifier == KBD_ALT && fw_ld8(fw, BDA_KBD_ALT_INPUT)) {
                fw_kbd_put(fw, fw_ld8(fw, BDA_KBD_ALT_INPUT));
                fw_st8(fw, BDA_KBD_ALT_INPUT, 0);
            }
        } else {
            flags |= modifier | held;
            mode |= right;
        }
        fw_st16(fw, BDA_KBD_FLAGS, flags);
        fw_st8(fw, BDA_KBD_MODE, mode);
        return 0;
    }
    fw_st8(fw, BDA_KBD_MODE, mode);
    if (release) {
        static const struct { uint8_t scan; uint16_t held; } locks[] = {
            { 0x3A, KBD_CAPS_HELD }, { 0x45, KBD_NUM_HELD }, { 0x46, KBD_SCROLL_HELD }, { 0x52, KBD_INS_HELD } };
        size_t i;
        for (i = 0; i < EMU_ARRAY_LEN(locks); i++)
            if (locks[i].scan == scan)
                fw_st16(fw, BDA_KBD_FLAGS, flags & ~(unsigned)locks[i].held);
        return 0;
    }
    switch (scan) {
    case 0x3A: fw_kbd_toggle(fw, flags, KBD_CAPS, KBD_CAPS_HELD); return 0;
    case 0x45: fw_kbd_toggle(fw, flags, KBD_NUM, KBD_NUM_HELD); return 0;
    case 0x46:
        if (e0 || (flags & KBD_CTRL)) { /* Ctrl-Break */
            unsigned start = fw_ld16(fw, BDA_KBD_START);
            fw_st8(fw, BDA_BREAK, 0x80);
            fw_st16(fw, BDA_KBD_HEAD, start);
            fw_st16(fw, BDA_KBD_TAIL, start);
            fw_kbd_put(fw, 0);
            return 0x1B;
        }
        fw_kbd_toggle(fw, flags, KBD_SCROLL, KBD_SCROLL_HELD);
        return 0;
    case 0x53:
        if ((flags & (KBD_CTRL | KBD_ALT)) == (KBD_CTRL | KBD_ALT)) {
            fw_st16(fw, BDA_RESET_FLAG, 0x1234);
            emu_request(fw->emu, REQ_RESET);
            return 0;
        }
        break;
    case 0x37:
        if (e0)
            return 0x05; /* Print Screen */
        break;
    case 0x52:
        if (!(flags & (KBD_CTRL | KBD_ALT)))
            fw_kbd_toggle(fw, flags, KBD_INS, KBD_INS_HELD);
        break;
    default: break;
    }
    key = fw_kbd_translate(fw, scan, e0, flags);
    if (key)
        fw_kbd_put(fw, key);
    return 0;
}

enum { INT09_START, INT09_INTERCEPTED, INT09_CALLED };
EMU_PRIV unsigned fw_int09(struct fw *fw, struct fw_regs *r)
{
    unsigned code = 0, vector;
    switch (fw_phase(r)) {
    case INT09_START:
        if ((fw_inb(fw, 0x64) & 0x21) != 1)
            break;
        code = fw_inb(fw, 0x60);
        if (!fw_vector_is_ours(fw, 0x15)) {
            fw->params[0] = 0x15 * 4;
            fw->params[1] = (uint16_t)(0x4F00 | code);
            fw->param_at = 0;
            fw->result_at = 0;
            fw_set_phase(r, INT09_INTERCEPTED);
            return FW_CALL_AX;
        }
        goto process;
    case INT09_INTERCEPTED:
        if (!(fw->results[1] & FW_CF)) /* the program ate it */
            break;
        code = fw->results[0] & 0xFF;
    process:
        vector = fw_kbd_process(fw, code);
        if (vector && !fw_vector_is_ours(fw, vector)) {
            fw_eoi(fw, 1);
            fw_set_phase(r, INT09_CALLED);
            return FW_CALL | vector << 8;
        }
        break;
    default: return FW_DONE;
    }
    fw_eoi(fw, 1);
    return FW_DONE;
}

/* What functions 00h and 01h, made before the 101-key keyboard, call its grey keys. */
static unsigned fw_key_as_84(unsigned key)
{
    unsigned scan = key >> 8, ch = key & 0xFF;
    if (scan == 0xE0)
        return ch == 0x2F ? 0x352F : 0x1C00 | ch;
    if (ch == 0xE0 && scan)
        return scan << 8;
    return key;
}

EMU_PRIV unsigned fw_int16(struct fw *fw, struct fw_regs *r)
{
    uint16_t key;
    unsigned fn = fw_hi(r->eax);
    switch (fn) {
    case 0x00: case 0x10:
        if (!fw_kbd_get(fw, &key, true))
            return fw_wait(fw);
        fw_put_x(&r->eax, fn ? key : fw_key_as_84(key));
        break;
    case 0x01: case 0x11:
        r->flags |= FW_IF; /* pollers with interrupts off would wait for ever */
        if (!fw_kbd_get(fw, &key, false)) {
            fw_set_zf(r, true);
            machine_polled_in_vain(fw->emu, &fw->key_nap);
            break;
        }
        fw->key_nap.polls = 0;
        fw_put_x(&r->eax, fn == 1 ? fw_key_as_84(key) : key);
        fw_set_zf(r, false);
        break;
    case 0x02:
        fw_put_lo(&r->eax, fw_ld8(fw, BDA_KBD_FLAGS));
        break;
    case 0x12: {
        unsigned flags = fw_ld16(fw, BDA_KBD_FLAGS), mode = fw_ld8(fw, BDA_KBD_MODE), high = (flags >> 8) & 0x73;
        high |= (mode & (KBD_MODE_RCTRL | KBD_MODE_RALT));
        fw_put_x(&r->eax, (flags & 0xFF) | high << 8);
        break;
    }
    case 0x03:
        if (fw_lo(r->eax) == 5) {
            fw_kbc_write(fw, 0x60, 0xF3);
            (void)fw_kbc_read(fw, 0);
            fw_kbc_write(fw, 0x60, (fw_hi(r->ebx) & 3u) << 5 | (fw_lo(r->ebx) & 31u));
            (void)fw_kbc_read(fw, 0);
        }
        break;
    case 0x05:
        fw_put_lo(&r->eax, fw_kbd_put(fw, r->ecx & 0xFFFF) ? 0 : 1);
        break;
    case 0x09: fw_put_lo(&r->eax, 0x30); break; /* 0Ah, 10h-12h are there */
    case 0x0A: fw_put_x(&r->ebx, 0x41AB); break; /* MF2 keyboard, translated */
    case 0x92: fw_put_hi(&r->eax, 0x80); break; /* yes: functions up to 12h */
    case 0xA2: break;
    default: break;
    }
    return FW_DONE;
}

/* ================= INT 11h, 12h, 14h, 17h ================= */

EMU_PRIV unsigned fw_int11(struct fw *fw, struct fw_regs *r)
{
    fw_put_x(&r->eax, fw_ld16(fw, BDA_EQUIPMENT));
    return FW_DONE;
}
EMU_PRIV unsigned fw_int12(struct fw *fw, struct fw_regs *r)
{
    fw_put_x(&r->eax, fw_ld16(fw, BDA_MEMORY_KIB));
    return FW_DONE;
}

/* Ports that answer: COM by the interrupt-enable register, LPT by the data latch. */
EMU_PRIV void fw_serial_init(struct fw *fw)
{
    static const uint16_t com[] = { 0x3F8, 0x2F8, 0x3E8, 0x2E8 }, lpt[] = { 0x378, 0x278, 0x3BC };
    unsigned i, n = 0, equipment = fw_ld16(fw, BDA_EQUIPMENT) & 0x31FFu;
    for (i = 0; i < 4; i++) {
        unsigned ier;
        fw_outb(fw, com[i] + 3u, 0x03);
        fw_outb(fw, com[i] + 1u, 0x02);
        ier = fw_inb(fw, com[i] + 1u);
        fw_outb(fw, com[i] + 1u, 0x00);
        if (ier != 0x02 || fw_inb(fw, com[i] + 1u) != 0)
            continue;
        fw_outb(fw, com[i] + 3u, 0x83); /* 115200 8N1 */
        fw_outb(fw, com[i], 1);
        fw_outb(fw, com[i] + 1u, 0);
        fw_outb(fw, com[i] + 3u, 0x03);
        fw_outb(fw, com[i] + 4u, 0x03);
        fw_st16(fw, BDA_COM_PORTS + 2 * n, com[i]);
        fw_st8(fw, BDA_COM_TIMEOUT + n, 0x0A);
        n++;
    }
    equipment |= n << 9;
    for (i = n = 0; i < 3; i++) {
        fw_outb(fw, lpt[i] + 2u, 0x0C);
        fw_outb(fw, lpt[i], 0xAA);
        if (fw_inb(fw, lpt[i]) != 0xAA)
            continue;
        fw_st16(fw, BDA_LPT_PORTS + 2 * n, lpt[i]);
        fw_st8(fw, BDA_LPT_TIMEOUT + n, 0x14);
        n++;
    }
    equipment |= n << 14;
    fw_st16(fw, BDA_EQUIPMENT, equipment);
}

/* Runs again until `ticks` 55 ms ticks are over; true: they are. The first call notes the time. */
static bool fw_timed_out(struct fw *fw, struct fw_regs *r, unsigned ticks)
{
    uint32_t now = fw_ld32(fw, BDA_TICKS);
    if (fw_phase(r) == 0) {
        fw_set_phase(r, 1);
        r->state = now;
        return false;
    }
    return fw_ticks_since(fw, r->state) > ticks;
}

EMU_PRIV unsigned fw_int14(struct fw *fw, struct fw_regs *r)
{
    static const uint16_t divisors[8] = { 1047, 768, 384, 192, 96, 48, 24, 12 }; /* 110..9600 baud from 115200 */
    unsigned n = r->edx & 0xFFFF, port = n < 4 ? fw_ld16(fw, BDA_COM_PORTS + 2 * n) : 0, lsr, al = fw_lo(r->eax);
    if (!port) {
        fw_put_hi(&r->eax, 0x80);
        return FW_DONE;
    }
    switch (fw_hi(r->eax)) {
    case 0:
        fw_outb(fw, port + 3, (al & 0x1Fu) | 0x80u);
        fw_outb(fw, port, divisors[al >> 5] & 0xFFu);
        fw_outb(fw, port + 1, (unsigned)divisors[al >> 5] >> 8);
        fw_outb(fw, port + 3, al & 0x1Fu);
        fw_outb(fw, port + 4, 0x03);
        break;
    case 1:
        lsr = fw_inb(fw, port + 5);
        if (!(lsr & 0x20)) {
            if (!fw_timed_out(fw, r, fw_ld8(fw, BDA_COM_TIMEOUT + n)))
                return FW_POLL;
            fw_put_hi(&r->eax, lsr | 0x80);
            return FW_DONE;
        }
        fw_outb(fw, port, al);
        fw_put_hi(&r->eax, fw_inb(fw, port + 5));
        return FW_DONE;
    case 2:
        lsr = fw_inb(fw, port + 5);
        if (!(lsr & 1)) {
            if (!fw_timed_out(fw, r, fw_ld8(fw, BDA_COM_TIMEOUT + n)))
                return FW_POLL;
            fw_put_hi(&r->eax, lsr | 0x80);
            return FW_DONE;
        }
        fw_put_lo(&r->eax, fw_inb(fw, port));
        fw_put_hi(&r->eax, lsr & 0x1E);
        return FW_DONE;
    case 3: break;
    default: return FW_DONE;
    }
    fw_put_hi(&r->eax, fw_inb(fw, port + 5));
    fw_put_lo(&r->eax, fw_inb(fw, port + 6));
    return FW_DONE;
}

EMU_PRIV unsigned fw_int17(struct fw *fw, struct fw_regs *r)
{
    unsigned n = r->edx & 0xFFFF, port = n < 3 ? fw_ld16(fw, BDA_LPT_PORTS + 2 * n) : 0, status;
    if (!port)
        return FW_DONE;
    switch (fw_hi(r->eax)) {
    case 0:
        fw_outb(fw, port, fw_lo(r->eax));
        fw_outb(fw, port + 2, 0x0D); /* strobe */
        fw_outb(fw, port + 2, 0x0C);
        break;
    case 1:
        fw_outb(fw, port + 2, 0x08);
        fw_outb(fw, port + 2, 0x0C);
        break;
    default: break;
    }
    status = fw_inb(fw, port + 1) ^ 0x48u; /* ACK and ERROR are shown inverted */
    fw_put_hi(&r->eax, status & 0xF8);
    return FW_DONE;
}

/* ================= INT 74h and INT 15h/C2h: PS/2 mouse ================= */

EMU_PRIV unsigned fw_int74(struct fw *fw, struct fw_regs *r)
{
    unsigned flags1, flags2, count, data;
    uint32_t handler;
    if (fw_phase(r))
        return FW_DONE;
    if ((fw_inb(fw, 0x64) & 0x21) != 0x21) {
        fw_eoi(fw, 12);
        return FW_DONE;
    }
    data = fw_inb(fw, 0x60);
    flags1 = fw_ld8(fw, EBDA_MOUSE_FLAGS1);
    flags2 = fw_ld8(fw, EBDA_MOUSE_FLAGS2);
    count = flags1 & 7;
    fw_st8(fw, EBDA_MOUSE_DATA + count, data);
    fw_eoi(fw, 12);
    if (count < (flags2 & 7)) {
        fw_st8(fw, EBDA_MOUSE_FLAGS1, (flags1 & ~7u) | (count + 1));
        return FW_DONE;
    }
    fw_st8(fw, EBDA_MOUSE_FLAGS1, flags1 & ~7u);
    handler = fw_ld32(fw, EBDA_MOUSE_HANDLER);
    if (!(flags2 & 0x80) || !handler)
        return FW_DONE;
    fw->params[0] = fw_ld8(fw, EBDA_MOUSE_DATA);
    fw->params[1] = fw_ld8(fw, EBDA_MOUSE_DATA + 1);
    fw->params[2] = fw_ld8(fw, EBDA_MOUSE_DATA + 2);
    fw->params[3] = count > 2 ? fw_ld8(fw, EBDA_MOUSE_DATA + 3) : 0;
    fw->params[4] = (uint16_t)(handler >> 16);
    fw->params[5] = (uint16_t)handler;
    fw->param_at = 0;
    fw_set_phase(r, 1);
    return FW_CALL_MOUSE;
}

/* A command to the mouse and its answer: 0 or -1. Interrupts are off in the command byte meanwhile. */
static int fw_mouse_command(struct fw *fw, const uint8_t *send, unsigned send_count, uint8_t *answer, unsigned answer_count)
{
    unsigned i;
    int v, rc = 0, mode;
    fw_kbc_write(fw, 0x64, 0x20);
    mode = fw_kbc_read(fw, 0);
    if (mode < 0)
        return -1;
    fw_kbc_write(fw, 0x64, 0x60);
    fw_kbc_write(fw, 0x60, ((unsigned)mode & ~0x23u) | 0x10u); /* keyboard off, both interrupts off, mouse clock on */
    for (i = 0; i < send_count && !rc; i++) {
        fw_kbc_write(fw, 0x64, 0xD4);
        fw_kbc_write(fw, 0x60, send[i]);
        if (fw_kbc_read(fw, 0x20) != 0xFA)
            rc = -1;
    }
    for (i = 0; i < answer_count && !rc; i++) {
        v = fw_kbc_read(fw, 0x20);
        if (v < 0)
            rc = -1;
        else
            answer[i] = (uint8_t)v;
    }
    fw_kbc_write(fw, 0x64, 0x60);
    fw_kbc_write(fw, 0x60, (unsigned)mode);
    return rc;
}

static void fw_mouse_irq(struct fw *fw, bool on)
{
    int mode;
    fw_kbc_write(fw, 0x64, 0x20);
    mode = fw_kbc_read(fw, 0);
    if (mode < 0)
        return;
    fw_kbc_write(fw, 0x64, 0x60);
    fw_kbc_write(fw, 0x60, on ? ((unsigned)mode | 2u) & ~0x20u : ((unsigned)mode & ~2u) | 0x20u);
}

static unsigned fw_mouse_service(struct fw *fw, struct fw_regs *r)
{
    static const uint8_t rates[] = { 10, 20, 40, 60, 80, 100, 200 };
    unsigned bh = fw_hi(r->ebx), status = 0;
    uint8_t send[2], answer[3];
    switch (fw_lo(r->eax)) {
    case 0:
        if (bh > 1) {
            status = 1;
            break;
        }
        if (bh && !(fw_ld8(fw, EBDA_MOUSE_FLAGS2) & 0x80)) {
            status = 5; /* no handler */
            break;
        }
        send[0] = bh ? 0xF4 : 0xF5;
        fw_mouse_irq(fw, bh == 1);
        if (fw_mouse_command(fw, send, 1, NULL, 0))
            status = 3;
        break;
    case 1: case 5:
        if (fw_lo(r->eax) == 5) {
            if (bh < 1 || bh > 8) {
                status = 2;
                break;
            }
            fw_st8(fw, EBDA_MOUSE_FLAGS1, 0);
            fw_st8(fw, EBDA_MOUSE_FLAGS2, (fw_ld8(fw, EBDA_MOUSE_FLAGS2) & 0x80u) | (bh - 1));
        }
        send[0] = 0xFF;
        if (fw_mouse_command(fw, send, 1, answer, 2)) {
            status = 3;
            break;
        }
        fw_put_lo(&r->ebx, answer[0]);
        fw_put_hi(&r->ebx, answer[1]);
        break;
    case 2:
        if (bh >= EMU_ARRAY_LEN(rates)) {
            status = 2;
            break;
        }
        send[0] = 0xF3;
        send[1] = rates[bh];
        status = fw_mouse_command(fw, send, 2, NULL, 0) ? 3 : 0;
        break;
    case 3:
        if (bh > 3) {
            status = 2;
            break;
        }
        send[0] = 0xE8;
        send[1] = (uint8_t)bh;
        status = fw_mouse_command(fw, send, 2, NULL, 0) ? 3 : 0;
        break;
    case 4:
        send[0] = 0xF2;
        if (fw_mouse_command(fw, send, 1, answer, 1))
            status = 3;
        else
            fw_put_hi(&r->ebx, answer[0]);
        break;
    case 6:
        send[0] = bh == 0 ? 0xE9 : bh == 1 ? 0xE6 : 0xE7;
        if (bh > 2)
            status = 1;
        else if (fw_mouse_command(fw, send, 1, answer, bh == 0 ? 3 : 0))
            status = 3;
        else if (bh == 0) {
            fw_put_lo(&r->ebx, answer[0]);
            fw_put_lo(&r->ecx, answer[1]);
            fw_put_lo(&r->edx, answer[2]);
        }
        break;
    case 7: {
        uint32_t handler = (uint32_t)r->es << 16 | (r->ebx & 0xFFFF);
        unsigned flags2 = fw_ld8(fw, EBDA_MOUSE_FLAGS2);
        fw_st32(fw, EBDA_MOUSE_HANDLER, handler);
        fw_st8(fw, EBDA_MOUSE_FLAGS2, handler ? flags2 | 0x80 : flags2 & ~0x80u);
        if (!handler)
            fw_mouse_irq(fw, false);
        break;
    }
    default: status = 1; break;
    }
    fw_put_hi(&r->eax, status);
    fw_set_cf(r, status != 0);
    return FW_DONE;
}

/* ================= INT 15h ================= */

static unsigned fw_unsupported(struct fw_regs *r)
{
    fw_put_hi(&r->eax, 0x86);
    fw_set_cf(r, true);
    return FW_DONE;
}

static unsigned fw_int15_e820(struct fw *fw, struct fw_regs *r)
{
    const struct fw_e820 *m;
    uint8_t out[20];
    uint32_t i = r->ebx;
    if (r->edx != 0x534D4150 /* SMAP */ || i >= fw->e820_count)
        return fw_unsupported(r);
    m = &fw->e820[i];
    st64le(out, m->base);
    st64le(out + 8, m->size);
    st32le(out + 16, m->type);
    fw_user_write(fw, r->es, (uint16_t)r->edi, out, sizeof out);
    r->eax = 0x534D4150;
    r->ecx = sizeof out;
    r->ebx = i + 1 < fw->e820_count ? i + 1 : 0;
    fw_set_cf(r, false);
    return FW_DONE;
}

static unsigned fw_int15_memory(struct fw *fw, struct fw_regs *r)
{
    uint64_t low = fw->tables_high, above_1m = (low > MIB ? low - MIB : 0) / KIB, above_16m = (low > 16 * MIB ? low - 16 * MIB : 0) / (64 * KIB);
    if (fw_hi(r->eax) == 0x88) {
        fw_put_x(&r->eax, (unsigned)EMU_MIN(above_1m, (uint64_t)63 * 1024));
        fw_set_cf(r, false);
        return FW_DONE;
    }
    if (fw_lo(r->eax) == 0x81) {
        r->eax = r->ecx = (uint32_t)EMU_MIN(above_1m, (uint64_t)15 * 1024);
        r->ebx = r->edx = (uint32_t)above_16m;
    } else {
        fw_put_x(&r->eax, (unsigned)EMU_MIN(above_1m, (uint64_t)15 * 1024));
        fw_put_x(&r->ebx, (unsigned)EMU_MIN(above_16m, (uint64_t)0xFFFF));
        fw_put_x(&r->ecx, r->eax & 0xFFFF);
        fw_put_x(&r->edx, r->ebx & 0xFFFF);
    }
    fw_set_cf(r, false);
    return FW_DONE;
}

/* 87h: block move by the caller's descriptor table, addresses above 1 MiB included. */
static unsigned fw_int15_move(struct fw *fw, struct fw_regs *r)
{
    uint8_t table[32], chunk[4096];
    uint32_t bytes = (r->ecx & 0xFFFF) * 2, from, to, n;
    if (!fw_user_read(fw, r->es, (uint16_t)((r->esi & 0xFFFF) + 0x10), table, 16))
        return FW_DONE;
    from = ld16le(table + 2) | (uint32_t)table[4] << 16 | (uint32_t)table[7] << 24;
    to = ld16le(table + 10) | (uint32_t)table[12] << 16 | (uint32_t)table[15] << 24;
    for (; bytes; bytes -= n, from += n, to += n) {
        n = EMU_MIN(bytes, (uint32_t)sizeof chunk);
        mem_read(fw->emu, from, chunk, n);
        mem_write(fw->emu, to, chunk, n);
    }
    fw_put_hi(&r->eax, 0);
    fw_set_cf(r, false);
    fw_set_zf(r, true);
    return FW_DONE;
}

static unsigned fw_int15_a20(struct fw *fw, struct fw_regs *r)
{
    switch (fw_lo(r->eax)) {
    case 0: chipset_set_a20(fw->emu, false); break;
    case 1: chipset_set_a20(fw->emu, true); break;
    case 2: fw_put_lo(&r->eax, chipset_get_a20(fw->emu)); break;
    case 3: fw_put_x(&r->ebx, 3); break; /* keyboard controller and port 92h */
    default: return fw_unsupported(r);
    }
    fw_put_hi(&r->eax, 0);
    fw_set_cf(r, false);
    return FW_DONE;
}

/* 86h: wait CX:DX microseconds. Halts while more than a tick is left, then spins: the tick is too coarse for the rest. */
static unsigned fw_int15_wait(struct fw *fw, struct fw_regs *r)
{
    uint32_t now = (uint32_t)(emu_now_ns(fw->emu) / NS_PER_US), left;
    if (fw_phase(r) == 0) {
        fw_set_phase(r, 1);
        r->state = now + ((r->ecx & 0xFFFF) << 16 | (r->edx & 0xFFFF));
    }
    left = r->state - now;
    if (left && left < 0xF0000000u)
        return left > 60000 ? fw_wait(fw) : FW_POLL;
    fw_put_hi(&r->eax, 0);
    fw_set_cf(r, false);
    return FW_DONE;
}

static unsigned fw_int15_event_wait(struct fw *fw, struct fw_regs *r)
{
    if (fw_lo(r->eax) == 1) {
        fw_st8(fw, BDA_WAIT_ACTIVE, 0);
        fw_cmos_set(fw, 0x0B, fw_cmos(fw, 0x0B) & ~0x40u);
    } else if (fw_ld8(fw, BDA_WAIT_ACTIVE) & 1) {
        fw_set_cf(r, true);
        return FW_DONE;
    } else {
        fw_st8(fw, BDA_WAIT_ACTIVE, 1);
        fw_st32(fw, BDA_WAIT_USER, (uint32_t)r->es << 16 | (r->ebx & 0xFFFF));
        fw_st32(fw, BDA_WAIT_COUNT, (r->ecx & 0xFFFF) << 16 | (r->edx & 0xFFFF));
        fw_outb(fw, 0xA1, fw_inb(fw, 0xA1) & 0xFEu);
        fw_cmos_set(fw, 0x0B, fw_cmos(fw, 0x0B) | 0x40u);
        (void)fw_cmos(fw, 0x0C);
    }
    fw_set_cf(r, false);
    return FW_DONE;
}

/* APM 1.2, real-mode interface only. */
static unsigned fw_int15_apm(struct fw *fw, struct fw_regs *r)
{
    switch (fw_lo(r->eax)) {
    case 0x00:
        fw_put_x(&r->eax, 0x0102);
        fw_put_x(&r->ebx, 0x504D); /* "PM" */
        fw_put_x(&r->ecx, 0x0000);
        break;
    case 0x01: case 0x04: case 0x06: case 0x08: case 0x0D: case 0x0F: case 0x10: break;
    case 0x05: /* idle: until the next interrupt */
        if (fw_phase(r) == 0) {
            fw_set_phase(r, 1);
            return fw_wait(fw);
        }
        break;
    case 0x07:
        if ((r->ebx & 0xFFFF) == 1 && (r->ecx & 0xFFFF) == 3)
            emu_request(fw->emu, REQ_SHUTDOWN);
        break;
    case 0x0A:
        fw_put_x(&r->ebx, 0x01FF); /* on line, no battery */
        fw_put_x(&r->ecx, 0xFFFF);
        fw_put_x(&r->edx, 0xFFFF);
        break;
    case 0x0B:
        fw_put_hi(&r->eax, 0x80); /* no event */
        fw_set_cf(r, true);
        return FW_DONE;
    case 0x0E: fw_put_x(&r->eax, 0x0102); break;
    default:
        fw_put_hi(&r->eax, 0x06); /* protected mode interface not there */
        fw_set_cf(r, true);
        return FW_DONE;
    }
    fw_set_cf(r, false);
    return FW_DONE;
}

EMU_PRIV unsigned fw_int15(struct fw *fw, struct fw_regs *r)
{
    switch (fw_hi(r->eax)) {
    case 0x24: return fw_int15_a20(fw, r);
    case 0x4F: /* keyboard intercept: keep the key */
        fw_set_cf(r, true);
        return FW_DONE;
    case 0x52: case 0x80: case 0x81: case 0x82: case 0x85: case 0x90: case 0x91:
        fw_put_hi(&r->eax, 0);
        fw_set_cf(r, false);
        return FW_DONE;
    case 0x53: return fw_int15_apm(fw, r);
    case 0x83: return fw_int15_event_wait(fw, r);
    case 0x86: return fw_int15_wait(fw, r);
    case 0x87: return fw_int15_move(fw, r);
    case 0x88: return fw_int15_memory(fw, r);
    case 0xC0:
        r->es = 0xF000;
        fw_put_x(&r->ebx, 0xE6F5);
        fw_put_hi(&r->eax, 0);
        fw_set_cf(r, false);
        return FW_DONE;
    case 0xC1:
        r->es = fw_ld16(fw, BDA_EBDA_SEGMENT);
        fw_set_cf(r, false);
        return FW_DONE;
    case 0xC2: return fw_mouse_service(fw, r);
    case 0xE8:
        if (fw_lo(r->eax) == 0x20)
            return fw_int15_e820(fw, r);
        if (fw_lo(r->eax) == 0x01 || fw_lo(r->eax) == 0x81)
            return fw_int15_memory(fw, r);
        return fw_unsupported(r);
    case 0xEC: /* the system tells which modes it will use */
        fw_put_hi(&r->eax, 0);
        fw_set_cf(r, false);
        return FW_DONE;
    default: return fw_unsupported(r);
    }
}
