/* dev/rtc.c - MC146818 real-time clock with 128 bytes of CMOS memory.
 *
 * Models     Motorola MC146818A data sheet (1984); the PC's CMOS layout (IBM AT Technical Reference 1985) with the bytes that QEMU's pc fills for
 *            SeaBIOS; ports 70h-71h.
 * Contract   IRQ 8 goes out by hpet_pass_legacy(). The wall clock starts at config->rtc_base_s and follows virtual time. board.c calls
 *            chipset_fill_cmos() when all drives are there.
 * Theory     Nothing ticks. The wall clock is a function of virtual time (origin), the periodic flag of the divider's phase, update and alarm
 *            flags of the seconds passed since they were last looked at (rtc_sync). A timer is armed only when a flag is to raise
 *            the interrupt line. While SET or a divider reset holds the clock, the time lies in cmos[] as the guest wrote it.
 *
 *              running --- SET=1 or divider reset: rtc_freeze (time -> cmos) ---> held
 *              held ------ both gone: rtc_thaw (cmos -> origin) ---------------> running; after a divider reset the first
 *                                                                                 update comes half a second later
 * Invariants 1. IRQ 8 is high exactly while a flag of C is set whose enable in B is, until C is read.
 *            2. timer is armed exactly while the line is low and an enabled flag will come without a guest access.
 *            3. Update-in-progress shows for the last 244 us before each update, and only while the clock runs.
 * Missing    Daylight saving (B.DSE), square wave output, divider settings for other crystals (they count as 32.768 kHz).
 */
#include "../machine.h"
#include "dev.h"

enum {
    RTC_SECONDS = 0, RTC_SECONDS_ALARM = 1, RTC_MINUTES = 2, RTC_MINUTES_ALARM = 3, RTC_HOURS = 4, RTC_HOURS_ALARM = 5, RTC_WEEKDAY = 6,
    RTC_DAY = 7, RTC_MONTH = 8, RTC_YEAR = 9, RTC_A = 10, RTC_B = 11, RTC_C = 12, RTC_D = 13, RTC_CENTURY = 0x32, RTC_CENTURY_PS2 = 0x37,
    RTC_A_UIP = 0x80, RTC_A_DIVIDER = 0x70, RTC_A_DIVIDER_32K = 0x20, RTC_A_RATE = 0x0F,
    RTC_B_SET = 0x80, RTC_B_PIE = 0x40, RTC_B_AIE = 0x20, RTC_B_UIE = 0x10, RTC_B_BINARY = 0x04, RTC_B_24H = 0x02,
    RTC_C_IRQF = 0x80, RTC_C_PF = 0x40, RTC_C_AF = 0x20, RTC_C_UF = 0x10, RTC_C_FLAGS = 0x70,
    RTC_D_VRT = 0x80, RTC_PM = 0x80, RTC_ANY = 0xC0, RTC_BYTES = 128
};
#define RTC_UIP_NS 244000
#define RTC_CRYSTAL_HZ 32768u
#define RTC_DAY_S 86400

struct rtc {
    struct device dev;
    struct region ports;
    uint8_t index;
    uint8_t cmos[RTC_BYTES]; /* time bytes are valid only while the clock is held */
    uint8_t flags;           /* of C, without IRQF */
    bool level;              /* IRQ 8 */
    int64_t origin_s, origin_ns; /* the wall clock showed origin_s (since 1970) at virtual origin_ns */
    int64_t seen_s;          /* wall second up to which update and alarm flags were made */
    int64_t divider_ns;      /* virtual time at which the divider started from 0 */
    uint64_t seen_ticks;     /* periodic ticks seen */
    struct timer timer;
};

/* ---- calendar ---- */

struct rtc_date {
    int64_t year;
    int month, day, hour, minute, second, weekday; /* weekday: 1 = Sunday */
};

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar; years of 400 from March on. */
static int64_t rtc_days(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void rtc_split(int64_t s, struct rtc_date *d)
{
    int64_t days = s / RTC_DAY_S, rest = s % RTC_DAY_S, z, era, doe, yoe, doy, mp;
    if (rest < 0) {
        rest += RTC_DAY_S;
        days--;
    }
    d->hour = (int)(rest / 3600);
    d->minute = (int)(rest / 60 % 60);
    d->second = (int)(rest % 60);
    d->weekday = (int)(((days + 4) % 7 + 7) % 7) + 1; /* 1970-01-01 was a Thursday */
    z = days + 719468;
    era = (z >= 0 ? z : z - 146096) / 146097;
    doe = z - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    d->day = (int)(doy - (153 * mp + 2) / 5 + 1);
    d->month = (int)(mp < 10 ? mp + 3 : mp - 9);
    d->year = yoe + era * 400 + (d->month <= 2);
}

/* ---- the wall clock ---- */

static bool rtc_held(const struct rtc *s)
{
    return (s->cmos[RTC_B] & RTC_B_SET) || (s->cmos[RTC_A] & RTC_A_DIVIDER) > RTC_A_DIVIDER_32K;
}

static int64_t rtc_wall_s(const struct rtc *s, int64_t now)
{
    int64_t d = now - s->origin_ns;
    return s->origin_s + (d >= 0 ? d / NS_PER_SEC : -((-d + NS_PER_SEC - 1) / NS_PER_SEC));
}

static int64_t rtc_wall_to_ns(const struct rtc *s, int64_t wall_s) { return s->origin_ns + (wall_s - s->origin_s) * NS_PER_SEC; }

static uint8_t rtc_encode(const struct rtc *s, int v)
{
    return (uint8_t)((s->cmos[RTC_B] & RTC_B_BINARY) ? v : v / 10 << 4 | v % 10);
}

static int rtc_decode(const struct rtc *s, uint8_t v)
{
    return (s->cmos[RTC_B] & RTC_B_BINARY) ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t rtc_encode_hour(const struct rtc *s, int hour)
{
    if (s->cmos[RTC_B] & RTC_B_24H)
        return rtc_encode(s, hour);
    return (uint8_t)(rtc_encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? RTC_PM : 0));
}

static int rtc_decode_hour(const struct rtc *s, uint8_t v)
{
    if (s->cmos[RTC_B] & RTC_B_24H)
        return rtc_decode(s, v);
    return rtc_decode(s, v & 0x7F) % 12 + ((v & RTC_PM) ? 12 : 0);
}

static void rtc_wall_to_bytes(struct rtc *s, int64_t wall_s)
{
    struct rtc_date d;
    rtc_split(wall_s, &d);
    s->cmos[RTC_SECONDS] = rtc_encode(s, d.second);
    s->cmos[RTC_MINUTES] = rtc_encode(s, d.minute);
    s->cmos[RTC_HOURS] = rtc_encode_hour(s, d.hour);
    s->cmos[RTC_WEEKDAY] = rtc_encode(s, d.weekday);
    s->cmos[RTC_DAY] = rtc_encode(s, d.day);
    s->cmos[RTC_MONTH] = rtc_encode(s, d.month);
    s->cmos[RTC_YEAR] = rtc_encode(s, (int)(d.year % 100));
    s->cmos[RTC_CENTURY] = s->cmos[RTC_CENTURY_PS2] = rtc_encode(s, (int)(d.year / 100 % 100));
}

/* Whatever the guest wrote makes some time: months are cut to 1..12, the rest runs over into the next unit. */
static int64_t rtc_bytes_to_wall(const struct rtc *s)
{
    int month = rtc_decode(s, s->cmos[RTC_MONTH]);
    int64_t year = rtc_decode(s, s->cmos[RTC_CENTURY]) * 100 + rtc_decode(s, s->cmos[RTC_YEAR]);
    month = month < 1 ? 1 : month > 12 ? 12 : month;
    return rtc_days(year, month, rtc_decode(s, s->cmos[RTC_DAY])) * RTC_DAY_S + rtc_decode_hour(s, s->cmos[RTC_HOURS]) * 3600 +
           rtc_decode(s, s->cmos[RTC_MINUTES]) * 60 + rtc_decode(s, s->cmos[RTC_SECONDS]);
}

/* ---- flags ---- */

static uint64_t rtc_tick_clocks(const struct rtc *s) /* crystal clocks a periodic tick, 0: off (data sheet, table 5) */
{
    unsigned rate = s->cmos[RTC_A] & RTC_A_RATE;
    if (!rate || (s->cmos[RTC_A] & RTC_A_DIVIDER) > RTC_A_DIVIDER_32K)
        return 0;
    return UINT64_C(1) << ((rate <= 2 ? rate + 7 : rate) - 1);
}

static uint64_t rtc_ticks(const struct rtc *s, int64_t now)
{
    uint64_t clocks = rtc_tick_clocks(s);
    return clocks ? muldiv64((uint64_t)(now - s->divider_ns), RTC_CRYSTAL_HZ, (uint64_t)NS_PER_SEC) / clocks : 0;
}

static bool rtc_alarm_field(uint8_t byte, int value, int now) { return (byte & RTC_ANY) == RTC_ANY || value == now; }

/* First wall second after `from` that the alarm names; at most a day ahead, or -1: it names none. */
static int64_t rtc_next_alarm(const struct rtc *s, int64_t from)
{
    uint8_t second = s->cmos[RTC_SECONDS_ALARM], minute = s->cmos[RTC_MINUTES_ALARM], hour = s->cmos[RTC_HOURS_ALARM];
    int64_t t = from + 1, end = from + RTC_DAY_S;
    while (t <= end) {
        int in_day = (int)((t % RTC_DAY_S + RTC_DAY_S) % RTC_DAY_S);
        if (!rtc_alarm_field(hour, rtc_decode_hour(s, hour), in_day / 3600))
            t += 3600 - in_day % 3600;
        else if (!rtc_alarm_field(minute, rtc_decode(s, minute), in_day / 60 % 60))
            t += 60 - in_day % 60;
        else if (!rtc_alarm_field(second, rtc_decode(s, second), in_day % 60))
            t++;
        else
            return t;
    }
    return -1;
}

/* Makes the flags that time has brought since the last look. */
static void rtc_sync(struct rtc *s)
{
    int64_t now = emu_now_ns(s->dev.emu), wall, alarm;
    uint64_t ticks = rtc_ticks(s, now);
    if (ticks > s->seen_ticks)
        s->flags |= RTC_C_PF;
    s->seen_ticks = ticks;
    if (rtc_held(s))
        return;
    wall = rtc_wall_s(s, now);
    if (wall > s->seen_s) {
        s->flags |= RTC_C_UF;
        alarm = rtc_next_alarm(s, s->seen_s);
        if (alarm >= 0 && alarm <= wall)
            s->flags |= RTC_C_AF;
    }
    s->seen_s = wall;
}

static bool rtc_irq_flag(const struct rtc *s) { return (s->flags & s->cmos[RTC_B] & RTC_C_FLAGS) != 0; }
EMU_STATIC_ASSERT(RTC_C_PF == RTC_B_PIE && RTC_C_AF == RTC_B_AIE && RTC_C_UF == RTC_B_UIE, rtc_flag_bits);

/* Line and timer as the invariants want them. */
static void rtc_update(struct rtc *s)
{
    uint8_t b = s->cmos[RTC_B];
    int64_t next = INT64_MAX, t;
    bool level = rtc_irq_flag(s);
    if (level != s->level) {
        s->level = level;
        hpet_pass_legacy(s->dev.emu, 8, level);
    }
    if (!level && (b & RTC_B_PIE) && rtc_tick_clocks(s)) {
        uint64_t clocks = (s->seen_ticks + 1) * rtc_tick_clocks(s);
        next = s->divider_ns + (int64_t)muldiv64(clocks, (uint64_t)NS_PER_SEC, RTC_CRYSTAL_HZ) + 1;
    }
    if (!level && (b & RTC_B_UIE) && !rtc_held(s)) {
        t = rtc_wall_to_ns(s, s->seen_s + 1);
        next = EMU_MIN(next, t);
    }
    if (!level && (b & RTC_B_AIE) && !rtc_held(s) && (t = rtc_next_alarm(s, s->seen_s)) >= 0) {
        t = rtc_wall_to_ns(s, t);
        next = EMU_MIN(next, t);
    }
    if (next == INT64_MAX)
        timer_cancel(&s->timer);
    else
        timer_arm(&s->timer, next);
}

static void rtc_fire(void *opaque)
{
    rtc_sync(opaque);
    rtc_update(opaque);
}

/* ---- holding and setting the clock ---- */

static void rtc_freeze(struct rtc *s) { rtc_wall_to_bytes(s, rtc_wall_s(s, emu_now_ns(s->dev.emu))); }

static void rtc_thaw(struct rtc *s, bool divider_restarts)
{
    int64_t now = emu_now_ns(s->dev.emu);
    int64_t phase = (now - s->origin_ns) % NS_PER_SEC;
    if (divider_restarts)
        phase = NS_PER_SEC / 2;
    s->origin_s = s->seen_s = rtc_bytes_to_wall(s);
    s->origin_ns = now - phase;
}

/* A or B changes: the clock may be held or let go. */
static void rtc_write_control(struct rtc *s, unsigned reg, uint8_t value)
{
    bool held = rtc_held(s), was_reset = (s->cmos[RTC_A] & RTC_A_DIVIDER) > RTC_A_DIVIDER_32K;
    bool is_reset = reg == RTC_A ? (value & RTC_A_DIVIDER) > RTC_A_DIVIDER_32K : was_reset;
    bool will = is_reset || ((reg == RTC_B ? value : s->cmos[RTC_B]) & RTC_B_SET);
    int64_t now = emu_now_ns(s->dev.emu);
    if (!held && will)
        rtc_freeze(s);
    if (reg == RTC_A)
        value = (uint8_t)(value & ~RTC_A_UIP);
    else if (value & RTC_B_SET)
        value &= (uint8_t)~RTC_B_UIE; /* data sheet: SET clears UIE */
    s->cmos[reg] = value;
    if (was_reset && !is_reset) {
        s->divider_ns = now;
        s->origin_ns = now - NS_PER_SEC / 2; /* the phase a later thaw keeps */
    }
    if (held && !will)
        rtc_thaw(s, was_reset && !is_reset);
    s->seen_ticks = rtc_ticks(s, now);
}

/* ---- registers ---- */

static bool rtc_is_time(unsigned reg)
{
    return reg == RTC_SECONDS || reg == RTC_MINUTES || reg == RTC_HOURS || (reg >= RTC_WEEKDAY && reg <= RTC_YEAR) || reg == RTC_CENTURY ||
           reg == RTC_CENTURY_PS2;
}

static uint8_t rtc_read_reg(struct rtc *s, unsigned reg)
{
    int64_t now = emu_now_ns(s->dev.emu);
    uint8_t value;
    if (rtc_is_time(reg)) {
        if (!rtc_held(s))
            rtc_wall_to_bytes(s, rtc_wall_s(s, now));
        return s->cmos[reg];
    }
    switch (reg) {
    case RTC_A:
        value = s->cmos[RTC_A];
        if (!rtc_held(s) && rtc_wall_s(s, now + RTC_UIP_NS) != rtc_wall_s(s, now))
            value |= RTC_A_UIP;
        return value;
    case RTC_C:
        rtc_sync(s);
        value = (uint8_t)(s->flags | (rtc_irq_flag(s) ? RTC_C_IRQF : 0));
        s->flags = 0;
        rtc_update(s);
        return value;
    case RTC_D: return RTC_D_VRT;
    default: return s->cmos[reg];
    }
}

static void rtc_write_reg(struct rtc *s, unsigned reg, uint8_t value)
{
    if (reg == RTC_C || reg == RTC_D)
        return;
    if (reg > RTC_D && !rtc_is_time(reg)) {
        s->cmos[reg] = value;
        return;
    }
    rtc_sync(s);
    if (reg == RTC_A || reg == RTC_B) {
        rtc_write_control(s, reg, value);
    } else if (rtc_is_time(reg)) {
        bool held = rtc_held(s);
        if (!held)
            rtc_freeze(s);
        s->cmos[reg] = value;
        if (reg == RTC_CENTURY || reg == RTC_CENTURY_PS2)
            s->cmos[RTC_CENTURY] = s->cmos[RTC_CENTURY_PS2] = value;
        if (!held)
            rtc_thaw(s, false);
    } else {
        s->cmos[reg] = value; /* alarm */
    }
    rtc_update(s);
}

static uint64_t rtc_port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct rtc *s = opaque;
    (void)size;
    return offset ? rtc_read_reg(s, s->index) : 0xFF; /* the index cannot be read back */
}

static void rtc_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct rtc *s = opaque;
    (void)size;
    if (offset)
        rtc_write_reg(s, s->index, (uint8_t)value);
    else
        s->index = (uint8_t)value & (RTC_BYTES - 1); /* bit 7 masks NMI, which comes from nowhere here */
}

static const struct region_ops rtc_ops = { rtc_port_read, rtc_port_write, 1, 1, false };

EMU_PRIV void rtc_set_cmos(struct emu *e, unsigned index, uint8_t value)
{
    struct rtc *s = chipset_of(e) ? chipset_of(e)->rtc : NULL;
    if (s && index < RTC_BYTES)
        rtc_write_reg(s, index, value);
}

/* ---- what firmware looks for ---- */

static void rtc_set_word(struct emu *e, unsigned low, unsigned high, uint64_t value)
{
    value = EMU_MIN(value, 65535);
    rtc_set_cmos(e, low, (uint8_t)value);
    rtc_set_cmos(e, high, (uint8_t)(value >> 8));
}

static uint8_t rtc_boot_code(char letter)
{
    switch (letter) {
    case 'a':
    case 'b': return 1;
    case 'c': return 2;
    case 'd': return 3;
    case 'n': return 4;
    default: return 0;
    }
}

/* SeaBIOS's disk translation, two bits a disk at 39h: 0 as the disk says, 1 LBA-assisted; with ATA's 16 heads and 63 sectors. */
static uint8_t rtc_translations(struct emu *e)
{
    unsigned n = 0;
    uint8_t value = 0;
    struct blk *b;
    for (b = e->drives; b; b = b->next) {
        const char *bus = b->opts ? options_get(b->opts, "if") : NULL, *media = b->opts ? options_get(b->opts, "media") : NULL;
        const char *index = b->opts ? options_get(b->opts, "index") : NULL;
        uint64_t i = n;
        if ((bus && strcmp(bus, "ide")) || (media && strcmp(media, "disk")) || b->removable)
            continue;
        if (index && parse_u64(index, 0, 3, &i) < 0)
            continue;
        if (i < 4 && b->size_bytes / 512 / (16 * 63) > 1024)
            value |= (uint8_t)(1u << (2 * i));
        n = (unsigned)i + 1;
    }
    return value;
}

EMU_PRIV void chipset_set_boot_order(struct emu *e)
{
    const char *order = e->config.boot_order[0] ? e->config.boot_order : "cad";
    uint8_t boot[3] = { 0, 0, 0 };
    unsigned i;
    for (i = 0; i < 3 && order[i]; i++)
        boot[i] = rtc_boot_code(order[i]);
    rtc_set_cmos(e, 0x3D, (uint8_t)(boot[0] | boot[1] << 4));
    rtc_set_cmos(e, 0x38, (uint8_t)(boot[2] << 4)); /* bit 0 clear: a floppy needs the boot signature */
}

EMU_PRIV void chipset_fill_cmos(struct emu *e)
{
    uint64_t low = e->ram_below_4g, high = e->ram && e->ram->size_bytes > low ? e->ram->size_bytes - low : 0;
    unsigned a = fdc_drive_type(e, 0), b = fdc_drive_type(e, 1), floppies = (a != 0) + (b != 0);
    rtc_set_word(e, 0x15, 0x16, EMU_MIN(low / KIB, 640));
    rtc_set_word(e, 0x17, 0x18, low > MIB ? (low - MIB) / KIB : 0);
    rtc_set_word(e, 0x30, 0x31, low > MIB ? (low - MIB) / KIB : 0);
    rtc_set_word(e, 0x34, 0x35, low > 16 * MIB ? (low - 16 * MIB) / (64 * KIB) : 0);
    rtc_set_cmos(e, 0x5B, (uint8_t)(high / (64 * KIB)));
    rtc_set_cmos(e, 0x5C, (uint8_t)(high / (64 * KIB) >> 8));
    rtc_set_cmos(e, 0x5D, (uint8_t)(high / (64 * KIB) >> 16));
    rtc_set_cmos(e, 0x5F, (uint8_t)((e->config.cpus ? e->config.cpus : 1) - 1));
    chipset_set_boot_order(e);
    rtc_set_cmos(e, 0x10, (uint8_t)(a << 4 | b));
    rtc_set_cmos(e, 0x14, (uint8_t)(0x06 | (floppies ? 1 : 0) | (floppies > 1 ? 0x40 : 0))); /* coprocessor, PS/2 mouse */
    rtc_set_cmos(e, 0x39, rtc_translations(e));
}

/* ---- the device ---- */

static int rtc_create(struct device *dev, struct options *opts, struct err *err)
{
    struct rtc *s = EMU_CONTAINER(dev, struct rtc, dev);
    (void)opts;
    if (!chipset_get(dev->emu))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(dev->emu)->rtc = s;
    s->cmos[RTC_A] = RTC_A_DIVIDER_32K | 6;
    s->cmos[RTC_B] = RTC_B_24H;
    s->origin_s = s->seen_s = dev->emu->config.rtc_base_s;
    s->origin_ns = s->divider_ns = emu_now_ns(dev->emu);
    timer_init(&s->timer, dev->emu, rtc_fire, s);
    return port_add(dev->emu, &s->ports, "rtc", 0x70, 2, &rtc_ops, s);
}

/* The battery keeps time and memory; only interrupt enables and flags go. */
static void rtc_reset(struct device *dev)
{
    struct rtc *s = EMU_CONTAINER(dev, struct rtc, dev);
    rtc_sync(s);
    s->index = 0;
    s->flags = 0;
    s->cmos[RTC_B] &= (uint8_t)~(RTC_B_PIE | RTC_B_AIE | RTC_B_UIE | 0x08);
    rtc_update(s);
}

static void rtc_destroy(struct device *dev)
{
    struct rtc *s = EMU_CONTAINER(dev, struct rtc, dev);
    if (s->timer.emu)
        timer_cancel(&s->timer);
    region_remove(dev->emu, &dev->emu->ports, &s->ports);
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->rtc = NULL;
}

EMU_PRIV const struct device_class rtc_class = {
    .name = "mc146818rtc", .bus = "isa", .help = "MC146818 real-time clock and CMOS memory", .instance_size = sizeof(struct rtc),
    .create = rtc_create, .reset = rtc_reset, .destroy = rtc_destroy,
};
#undef RTC_UIP_NS
#undef RTC_CRYSTAL_HZ
#undef RTC_DAY_S
