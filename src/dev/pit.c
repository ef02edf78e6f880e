/* dev/pit.c - 8254 interval timer, and port 61h that gates its third channel.
 *
 * Models     Intel 8254 data sheet 231164-005; port 61h: PIIX3 290550-002 §2.5.3.1 (NMI status and control).
 * Contract   Guests reach it through ports 40h-43h and 61h. Channel 0's output goes to IRQ 0 by way of hpet_pass_legacy(); channel 2 is
 *            read back in port 61h. The clock is 1.193182 MHz of virtual time.
 * Theory     A channel never counts. It remembers its reload value and when that took effect (loaded_ns); the present count, OUT and the
 *            next rising edge are functions of the clocks since then. So a guest that programs a 1 kHz tick and halts costs one
 *            timer event a millisecond, and a guest that polls the count costs one multiplication and division a read.
 *            A new reload value in modes 2 and 3 waits for the end of the running period (next_reload, next_ns).
 *            A closed gate stops modes 0 and 4 (paused_clocks keeps how far they were) and holds OUT of modes 2 and 3 high.
 * Invariants 1. edge_timer is armed exactly while channel 0 will have a rising edge without a guest access.
 *            2. loaded_ns <= emu_now_ns() for every channel that counts.
 *            3. A latched count or status is handed out once, low byte first, and freezes nothing else.
 *            4. IRQ 0 sees each rising edge as a pulse that stays high; edges closer than PIT_MIN_EDGE_NS are merged.
 * Missing    Sound: OUT of channel 2 drives no speaker yet. NMI sources of port 61h (its enable bits are kept).
 */
#include "../machine.h"
#include "dev.h"

#define PIT_HZ 1193182u
/* Edges closer than this are merged: a guest must not be able to keep the host busy with ticks alone. */
#define PIT_MIN_EDGE_NS 2000
#define PIT_REFRESH_NS 15085 /* DRAM refresh request: half period of port 61h bit 4 */
enum {
    PIT_CHANNELS = 3, PIT_LSB = 1, PIT_MSB = 2, PIT_WORD = 3,
    PIT_NO_LATCH_COUNT = 0x20, PIT_NO_LATCH_STATUS = 0x10, PIT_READ_BACK = 3,
    PORT61_GATE2 = 1, PORT61_SPEAKER = 2, PORT61_KEPT = 0x0F, PORT61_REFRESH = 0x10, PORT61_OUT2 = 0x20
};

struct pit_channel {
    uint8_t mode, access; /* 0-5; PIT_LSB.. */
    bool bcd, gate, counting;
    bool write_high, read_high; /* next byte of a word access is the high one */
    uint8_t write_low;
    uint8_t latched_bytes;      /* of latched_count still to be read */
    uint16_t latched_count;
    bool status_latched;
    uint8_t latched_status;
    uint32_t reload;            /* 1 .. 65536 (10000) */
    uint32_t next_reload;       /* 0: none waits */
    int64_t loaded_ns, next_ns;
    uint64_t paused_clocks;     /* gate closed: clocks counted so far */
};
struct pit {
    struct device dev;
    struct pit_channel channel[PIT_CHANNELS];
    uint8_t port61;
    struct timer edge_timer;
    struct region ports, port61_region;
};

/* ---- time and counts ---- */

static int64_t pit_clocks_to_ns(uint64_t clocks) /* rounded up: at that time the clocks have passed */
{
    return (int64_t)muldiv64(clocks, (uint64_t)NS_PER_SEC, PIT_HZ) + 1;
}

static uint64_t pit_clocks(const struct pit_channel *c, int64_t now)
{
    if (!c->gate && (c->mode == 0 || c->mode == 4))
        return c->paused_clocks;
    return muldiv64((uint64_t)(now - c->loaded_ns), PIT_HZ, (uint64_t)NS_PER_SEC);
}

/* Lets a waiting reload value take effect if its time has come. */
static void pit_sync(struct pit_channel *c, int64_t now)
{
    if (c->next_reload && now >= c->next_ns) {
        c->reload = c->next_reload;
        c->loaded_ns = c->next_ns;
        c->next_reload = 0;
    }
}

static uint32_t pit_modulus(const struct pit_channel *c) { return c->bcd ? 10000 : 65536; }

static uint16_t pit_count(struct pit_channel *c, int64_t now)
{
    uint64_t t;
    uint32_t v;
    pit_sync(c, now);
    t = c->counting ? pit_clocks(c, now) : 0;
    switch (c->mode) {
    case 2: v = !c->gate ? c->reload : c->reload - (uint32_t)(t % c->reload); break;
    case 3: v = !c->gate ? c->reload : c->reload - (uint32_t)(2 * t % c->reload); break;
    default: v = (uint32_t)((c->reload + pit_modulus(c) - t % pit_modulus(c)) % pit_modulus(c)); break;
    }
    v %= pit_modulus(c);
    if (c->mode == 3)
        v &= ~1u;
    if (c->bcd)
        v = v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 << 12;
    return (uint16_t)v;
}

static bool pit_out(struct pit_channel *c, int64_t now)
{
    uint64_t t;
    pit_sync(c, now);
    if (!c->counting)
        return c->mode != 0;
    t = pit_clocks(c, now);
    switch (c->mode) {
    case 0: return t >= c->reload;
    case 1: return t >= c->reload;
    case 2: return !c->gate || t % c->reload != c->reload - 1 || c->reload == 1;
    case 3: return !c->gate || t % c->reload < (c->reload + 1) / 2;
    default: return t != c->reload; /* 4, 5: low for one clock */
    }
}

/* Virtual time of OUT's next rising edge after now, or -1. */
static int64_t pit_next_edge(struct pit_channel *c, int64_t now)
{
    uint64_t t;
    int64_t edge;
    pit_sync(c, now);
    if (!c->counting || !c->gate)
        return -1;
    if (c->next_reload)
        return c->next_ns;
    t = pit_clocks(c, now);
    switch (c->mode) {
    case 2:
    case 3: edge = c->loaded_ns + pit_clocks_to_ns((t / c->reload + 1) * c->reload); break;
    case 4:
    case 5: edge = c->loaded_ns + pit_clocks_to_ns((uint64_t)c->reload + 1); break;
    default: edge = c->loaded_ns + pit_clocks_to_ns(c->reload); break;
    }
    return edge > now ? edge : -1;
}

/* ---- channel 0's interrupt ---- */

static void pit_arm(struct pit *s)
{
    int64_t now = emu_now_ns(s->dev.emu), edge = pit_next_edge(&s->channel[0], now);
    if (edge < 0)
        timer_cancel(&s->edge_timer);
    else
        timer_arm(&s->edge_timer, EMU_MAX(edge, now + PIT_MIN_EDGE_NS));
}

static void pit_edge(void *opaque)
{
    struct pit *s = opaque;
    hpet_pass_legacy(s->dev.emu, 0, 0);
    hpet_pass_legacy(s->dev.emu, 0, 1);
    pit_arm(s);
}

/* After a change by the guest: OUT as it is now (a change of mode can raise it), and the next edge. */
static void pit_changed(struct pit *s, unsigned i)
{
    if (i != 0)
        return;
    hpet_pass_legacy(s->dev.emu, 0, pit_out(&s->channel[0], emu_now_ns(s->dev.emu)));
    pit_arm(s);
}

/* ---- programming ---- */

static void pit_load(struct pit *s, unsigned i, uint32_t value)
{
    struct pit_channel *c = &s->channel[i];
    int64_t now = emu_now_ns(s->dev.emu);
    if (c->bcd)
        value = (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 + (value >> 12 & 15) * 1000;
    if (!value || value > pit_modulus(c))
        value = pit_modulus(c);
    pit_sync(c, now);
    if (c->counting && c->gate && (c->mode == 2 || c->mode == 3)) {
        c->next_reload = value;
        c->next_ns = c->loaded_ns + pit_clocks_to_ns((pit_clocks(c, now) / c->reload + 1) * c->reload);
    } else if (c->mode == 1 || c->mode == 5) {
        c->reload = value; /* counts from the next rising gate */
    } else {
        c->reload = value;
        c->loaded_ns = now;
        c->paused_clocks = 0;
        c->counting = true;
    }
    pit_changed(s, i);
}

static void pit_write_count(struct pit *s, unsigned i, uint8_t value)
{
    struct pit_channel *c = &s->channel[i];
    switch (c->access) {
    case PIT_LSB: pit_load(s, i, value); break;
    case PIT_MSB: pit_load(s, i, (uint32_t)value << 8); break;
    default:
        if (c->write_high) {
            c->write_high = false;
            pit_load(s, i, c->write_low | (uint32_t)value << 8);
            break;
        }
        c->write_high = true;
        c->write_low = value;
        if (c->mode == 0) { /* the first byte stops the count and pulls OUT low */
            c->counting = false;
            pit_changed(s, i);
        }
        break;
    }
}

static void pit_latch_count(struct pit *s, struct pit_channel *c)
{
    uint16_t count;
    if (c->latched_bytes)
        return; /* the first latch stays until it was read */
    count = pit_count(c, emu_now_ns(s->dev.emu));
    c->latched_bytes = c->access == PIT_WORD ? 2 : 1;
    c->latched_count = c->access == PIT_MSB ? count >> 8 : count;
}

static void pit_latch_status(struct pit *s, struct pit_channel *c)
{
    int64_t now = emu_now_ns(s->dev.emu);
    bool null_count;
    if (c->status_latched)
        return;
    pit_sync(c, now);
    null_count = c->next_reload || (!c->counting && c->mode != 1 && c->mode != 5);
    c->status_latched = true;
    c->latched_status = (uint8_t)((pit_out(c, now) ? 0x80 : 0) | (null_count ? 0x40 : 0) | c->access << 4 | c->mode << 1 | c->bcd);
}

static void pit_write_control(struct pit *s, uint8_t value)
{
    unsigned i = value >> 6;
    struct pit_channel *c;
    if (i == PIT_READ_BACK) {
        for (i = 0; i < PIT_CHANNELS; i++) {
            if (!((value >> (i + 1)) & 1))
                continue;
            if (!(value & PIT_NO_LATCH_COUNT))
                pit_latch_count(s, &s->channel[i]);
            if (!(value & PIT_NO_LATCH_STATUS))
                pit_latch_status(s, &s->channel[i]);
        }
        return;
    }
    c = &s->channel[i];
    if (!(value & 0x30)) {
        pit_latch_count(s, c);
        return;
    }
    c->access = (value >> 4) & 3;
    c->mode = (value >> 1) & 7;
    if (c->mode > 5)
        c->mode -= 4;
    c->bcd = value & 1;
    c->counting = c->write_high = c->read_high = c->status_latched = false;
    c->latched_bytes = 0;
    c->next_reload = 0;
    c->reload = pit_modulus(c);
    pit_changed(s, i);
}

static uint8_t pit_read_count(struct pit *s, struct pit_channel *c)
{
    uint16_t count;
    uint8_t byte;
    if (c->status_latched) {
        c->status_latched = false;
        return c->latched_status;
    }
    if (c->latched_bytes) {
        byte = (uint8_t)c->latched_count;
        c->latched_count >>= 8;
        c->latched_bytes--;
        return byte;
    }
    count = pit_count(c, emu_now_ns(s->dev.emu));
    if (c->access == PIT_LSB)
        return (uint8_t)count;
    if (c->access == PIT_MSB)
        return (uint8_t)(count >> 8);
    c->read_high = !c->read_high;
    return (uint8_t)(c->read_high ? count : count >> 8);
}

static uint64_t pit_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pit *s = opaque;
    (void)size;
    return offset == 3 ? 0 : pit_read_count(s, &s->channel[offset]); /* the control word is write-only */
}

static void pit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pit *s = opaque;
    (void)size;
    if (offset == 3)
        pit_write_control(s, (uint8_t)value);
    else
        pit_write_count(s, (unsigned)offset, (uint8_t)value);
}

/* ---- gates and port 61h ---- */

EMU_PRIV void pit_set_gate(struct emu *e, unsigned channel, bool on)
{
    struct pit *s = chipset_of(e) ? chipset_of(e)->pit : NULL;
    struct pit_channel *c;
    int64_t now;
    if (!s || channel >= PIT_CHANNELS || s->channel[channel].gate == on)
        return;
    c = &s->channel[channel];
    now = emu_now_ns(e);
    pit_sync(c, now);
    if (c->mode == 0 || c->mode == 4) {
        if (on)
            c->loaded_ns = now - (c->paused_clocks ? pit_clocks_to_ns(c->paused_clocks) : 0);
        else
            c->paused_clocks = c->counting ? pit_clocks(c, now) : 0;
    } else if (on) { /* modes 2, 3: reload; 1, 5: trigger */
        if (c->next_reload)
            c->reload = c->next_reload;
        c->next_reload = 0;
        c->loaded_ns = now;
        if (c->mode == 1 || c->mode == 5)
            c->counting = true;
    }
    c->gate = on;
    pit_changed(s, channel);
}

static uint64_t pit_port61_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pit *s = opaque;
    int64_t now = emu_now_ns(s->dev.emu);
    (void)offset;
    (void)size;
    return s->port61 | ((now / PIT_REFRESH_NS) & 1 ? PORT61_REFRESH : 0) | (pit_out(&s->channel[2], now) ? PORT61_OUT2 : 0);
}

static void pit_port61_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pit *s = opaque;
    (void)offset;
    (void)size;
    s->port61 = (uint8_t)value & PORT61_KEPT;
    pit_set_gate(s->dev.emu, 2, (value & PORT61_GATE2) != 0);
}

static const struct region_ops pit_ops = { pit_read, pit_write, 1, 1, false };
static const struct region_ops pit_port61_ops = { pit_port61_read, pit_port61_write, 1, 1, false };

/* ---- the device ---- */

static int pit_create(struct device *dev, struct options *opts, struct err *err)
{
    struct pit *s = EMU_CONTAINER(dev, struct pit, dev);
    struct emu *e = dev->emu;
    unsigned i;
    (void)opts;
    if (!chipset_get(e))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(e)->pit = s;
    for (i = 0; i < PIT_CHANNELS; i++) {
        s->channel[i].reload = 65536;
        s->channel[i].mode = 3;
        s->channel[i].access = PIT_WORD;
    }
    timer_init(&s->edge_timer, e, pit_edge, s);
    port_add(e, &s->ports, "pit", 0x40, 4, &pit_ops, s);
    port_add(e, &s->port61_region, "port61", 0x61, 1, &pit_port61_ops, s);
    return 0;
}

/* All channels begin in mode 3 with the full count, as a BIOS leaves channel 0 and as QEMU does. */
static void pit_reset(struct device *dev)
{
    struct pit *s = EMU_CONTAINER(dev, struct pit, dev);
    unsigned i;
    for (i = 0; i < PIT_CHANNELS; i++) {
        struct pit_channel *c = &s->channel[i];
        memset(c, 0, sizeof *c);
        c->mode = 3;
        c->access = PIT_WORD;
        c->gate = i != 2;
        c->counting = true;
        c->reload = 65536;
        c->loaded_ns = emu_now_ns(dev->emu);
    }
    s->port61 = 0;
    pit_changed(s, 0);
}

static void pit_destroy(struct device *dev)
{
    struct pit *s = EMU_CONTAINER(dev, struct pit, dev);
    if (s->edge_timer.emu)
        timer_cancel(&s->edge_timer);
    region_remove(dev->emu, &dev->emu->ports, &s->ports);
    region_remove(dev->emu, &dev->emu->ports, &s->port61_region);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->pit = NULL;
}

EMU_PRIV const struct device_class pit_class = {
    .name = "i8254", .bus = "isa", .help = "8254 interval timer and port 61h", .instance_size = sizeof(struct pit),
    .create = pit_create, .reset = pit_reset, .destroy = pit_destroy,
};
#undef PIT_HZ
#undef PIT_MIN_EDGE_NS
#undef PIT_REFRESH_NS
