/* dev/pic.c - the pair of 8259A interrupt controllers, with the edge/level control registers.
 *
 * Models     Intel 8259A data sheet 231468-003; ELCR at 4D0h/4D1h: PIIX3 290550-002 §2.5.7.
 * Contract   Lines come in by pic_set_line() (through board_gsi). The master's INTR goes to lapic_set_lint0(); the CPU's side takes a vector
 *            with pic_acknowledge(). Guests reach it at 20h-21h, A0h-A1h.
 * Theory     Per chip: IRR (requests), ISR (in service), IMR (masks), and the line that has lowest priority. A request is put forward
 *            when it is not masked and ranks above everything in service; the slave's output is the master's line 2.
 *            An edge input sets IRR at its rising edge, and IRR stays until acknowledged; a level input's IRR is the level itself.
 * Invariants 1. INTR is what pic_pending(master) says, after every access and line change (pic_update).
 *            2. A level input's IRR bit equals its line.
 *            3. elcr never has bits 0, 1, 2 (master) or 0, 5 (slave): these inputs are edge-triggered by wiring.
 * Missing    8080/85 mode (CALL bytes): ICW4.uPM = 0 is taken as 8086 mode. Buffered mode has no pins to act on.
 */
#include "../machine.h"
#include "dev.h"

enum {
    PIC_ICW1 = 0x10, PIC_ICW1_IC4 = 0x01, PIC_ICW1_SNGL = 0x02, PIC_ICW1_LTIM = 0x08,
    PIC_ICW4_AEOI = 0x02, PIC_ICW4_SFNM = 0x10,
    PIC_OCW3 = 0x08, PIC_OCW3_RIS = 0x01, PIC_OCW3_RR = 0x02, PIC_OCW3_POLL = 0x04, PIC_OCW3_SMM = 0x20, PIC_OCW3_ESMM = 0x40,
    PIC_CASCADE = 2, PIC_SPURIOUS = 7
};
enum pic_expect { PIC_READY, PIC_EXPECT_ICW2, PIC_EXPECT_ICW3, PIC_EXPECT_ICW4 };

struct pic {
    struct pic_pair *pair;
    bool master;
    uint8_t irr, isr, imr, elcr, elcr_mask, lines;
    uint8_t lowest;      /* line of lowest priority; 7 after initialisation */
    uint8_t vector_base; /* bits 7-3 */
    uint8_t expect;      /* enum pic_expect */
    bool icw4_needed, single, level_mode, auto_eoi, rotate_on_aeoi, fully_nested_special, special_mask, read_isr, poll;
    struct region ports, elcr_port;
};
struct pic_pair {
    struct device dev;
    struct pic chip[2]; /* master, slave */
    bool intr;
};

static void pic_update(struct pic_pair *s);

static bool pic_is_level(const struct pic *p, unsigned line) { return p->level_mode || ((p->elcr >> line) & 1); }

/* Rank of the highest-priority line among bits, 0 highest; 8: none. */
static unsigned pic_rank(const struct pic *p, uint8_t bits)
{
    unsigned rank;
    for (rank = 0; rank < 8; rank++)
        if ((bits >> ((p->lowest + 1 + rank) & 7)) & 1)
            return rank;
    return 8;
}

/* The line that this chip puts forward, or -1. */
static int pic_pending(const struct pic *p)
{
    unsigned request = pic_rank(p, (uint8_t)(p->irr & ~p->imr)), service;
    uint8_t in_service = p->isr;
    if (request == 8)
        return -1;
    if (p->special_mask)
        in_service &= (uint8_t)~p->imr; /* masked lines in service stop nobody */
    if (p->fully_nested_special && p->master)
        in_service &= (uint8_t)~(1u << PIC_CASCADE); /* the slave sorts out its own */
    service = pic_rank(p, in_service);
    return request < service ? (int)((p->lowest + 1 + request) & 7) : -1;
}

static void pic_input(struct pic *p, unsigned line, bool on)
{
    uint8_t bit = (uint8_t)(1u << line);
    if (pic_is_level(p, line)) {
        p->irr = (uint8_t)((p->irr & ~bit) | (on ? bit : 0));
    } else if (on && !(p->lines & bit)) {
        p->irr |= bit;
    }
    p->lines = (uint8_t)((p->lines & ~bit) | (on ? bit : 0));
}

static void pic_update(struct pic_pair *s)
{
    bool intr;
    if (pic_pending(&s->chip[1]) >= 0) /* the cascade input follows the slave's output */
        s->chip[0].irr |= 1u << PIC_CASCADE;
    else
        s->chip[0].irr &= (uint8_t)~(1u << PIC_CASCADE);
    intr = pic_pending(&s->chip[0]) >= 0;
    if (intr != s->intr) {
        s->intr = intr;
        lapic_set_lint0(s->dev.emu, intr);
    }
}

EMU_PRIV void pic_set_line(struct emu *e, int line, int level)
{
    struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    if (!s || line < 0 || line > 15 || line == PIC_CASCADE)
        return;
    pic_input(&s->chip[line >> 3], (unsigned)line & 7, level != 0);
    pic_update(s);
}

EMU_PRIV bool pic_intr(struct emu *e)
{
    struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    return s && s->intr;
}

/* ---- acknowledge and end of interrupt ---- */

static void pic_take(struct pic *p, unsigned line)
{
    uint8_t bit = (uint8_t)(1u << line);
    if (!pic_is_level(p, line))
        p->irr &= (uint8_t)~bit;
    if (!p->auto_eoi)
        p->isr |= bit;
    else if (p->rotate_on_aeoi)
        p->lowest = (uint8_t)line;
}

/* One chip's part of INTA: its line, 7 when the request has gone (spurious: nothing enters service). */
static unsigned pic_inta(struct pic *p)
{
    int line = pic_pending(p);
    if (line < 0)
        return PIC_SPURIOUS;
    pic_take(p, (unsigned)line);
    return (unsigned)line;
}

EMU_PRIV int pic_acknowledge(struct emu *e)
{
    struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    unsigned line, vector;
    if (!s)
        return -1;
    line = pic_inta(&s->chip[0]);
    if (line == PIC_CASCADE && !s->chip[0].single)
        vector = s->chip[1].vector_base + pic_inta(&s->chip[1]);
    else
        vector = s->chip[0].vector_base + line;
    pic_update(s);
    return (int)vector;
}

static void pic_ocw2(struct pic *p, uint8_t value)
{
    unsigned line = value & 7, rank;
    switch (value >> 5) {
    case 1: /* non-specific EOI */
    case 5: /* rotate on non-specific EOI */
        rank = pic_rank(p, p->special_mask ? (uint8_t)(p->isr & ~p->imr) : p->isr);
        if (rank == 8)
            return;
        line = (p->lowest + 1u + rank) & 7;
        p->isr &= (uint8_t)~(1u << line);
        if (value >> 5 == 5)
            p->lowest = (uint8_t)line;
        break;
    case 3: /* specific EOI */
    case 7: /* rotate on specific EOI */
        p->isr &= (uint8_t)~(1u << line);
        if (value >> 5 == 7)
            p->lowest = (uint8_t)line;
        break;
    case 6: p->lowest = (uint8_t)line; break; /* set priority */
    case 4: p->rotate_on_aeoi = true; break;
    case 0: p->rotate_on_aeoi = false; break;
    default: break; /* 2: no operation */
    }
}

/* ---- registers ---- */

static void pic_icw1(struct pic *p, uint8_t value)
{
    unsigned line;
    p->level_mode = (value & PIC_ICW1_LTIM) != 0;
    p->irr = 0;
    for (line = 0; line < 8; line++) /* edges must come anew, levels show through */
        if (pic_is_level(p, line))
            p->irr |= p->lines & (uint8_t)(1u << line);
    p->isr = p->imr = 0;
    p->lowest = 7;
    p->special_mask = p->read_isr = p->poll = p->auto_eoi = p->rotate_on_aeoi = p->fully_nested_special = false;
    p->icw4_needed = (value & PIC_ICW1_IC4) != 0;
    p->single = (value & PIC_ICW1_SNGL) != 0;
    p->expect = PIC_EXPECT_ICW2;
}

static void pic_write_data(struct pic *p, uint8_t value)
{
    switch (p->expect) {
    case PIC_EXPECT_ICW2:
        p->vector_base = value & 0xF8;
        p->expect = !p->single ? PIC_EXPECT_ICW3 : p->icw4_needed ? PIC_EXPECT_ICW4 : PIC_READY;
        break;
    case PIC_EXPECT_ICW3: /* the cascade is wired: line 2, id 2 */
        p->expect = p->icw4_needed ? PIC_EXPECT_ICW4 : PIC_READY;
        break;
    case PIC_EXPECT_ICW4:
        p->fully_nested_special = (value & PIC_ICW4_SFNM) != 0;
        p->auto_eoi = (value & PIC_ICW4_AEOI) != 0;
        p->expect = PIC_READY;
        break;
    default: p->imr = value; break;
    }
}

static void pic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pic *p = opaque;
    (void)size;
    if (offset) {
        pic_write_data(p, (uint8_t)value);
    } else if (value & PIC_ICW1) {
        pic_icw1(p, (uint8_t)value);
    } else if (value & PIC_OCW3) {
        if (value & PIC_OCW3_ESMM)
            p->special_mask = (value & PIC_OCW3_SMM) != 0;
        if (value & PIC_OCW3_POLL)
            p->poll = true;
        else if (value & PIC_OCW3_RR)
            p->read_isr = (value & PIC_OCW3_RIS) != 0;
    } else {
        pic_ocw2(p, (uint8_t)value);
    }
    pic_update(p->pair);
}

/* The read after a poll command is an acknowledge: bit 7 and the line, or 0 (data sheet, "Poll Command"). */
static uint8_t pic_poll_read(struct pic *p)
{
    int line = pic_pending(p);
    p->poll = false;
    if (line < 0)
        return 0;
    pic_take(p, (unsigned)line);
    pic_update(p->pair);
    return (uint8_t)(0x80 | line);
}

static uint64_t pic_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pic *p = opaque;
    (void)size;
    if (p->poll)
        return pic_poll_read(p);
    if (offset)
        return p->imr;
    return p->read_isr ? p->isr : p->irr;
}

static uint64_t pic_elcr_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)offset;
    (void)size;
    return ((struct pic *)opaque)->elcr;
}

static void pic_elcr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pic *p = opaque;
    (void)offset;
    (void)size;
    p->elcr = (uint8_t)value & p->elcr_mask;
    p->irr = (uint8_t)((p->irr & ~p->elcr) | (p->lines & p->elcr)); /* invariant 2 */
    pic_update(p->pair);
}

static const struct region_ops pic_ops = { pic_read, pic_write, 1, 1, false };
static const struct region_ops pic_elcr_ops = { pic_elcr_read, pic_elcr_write, 1, 1, false };

/* ---- the device ---- */

static int pic_create(struct device *dev, struct options *opts, struct err *err)
{
    struct pic_pair *s = EMU_CONTAINER(dev, struct pic_pair, dev);
    struct emu *e = dev->emu;
    unsigned i;
    (void)opts;
    if (!chipset_get(e))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(e)->pic = s;
    for (i = 0; i < 2; i++) {
        s->chip[i].pair = s;
        s->chip[i].master = i == 0;
        s->chip[i].lowest = 7;
        s->chip[i].elcr_mask = i ? 0xDE : 0xF8;
        port_add(e, &s->chip[i].ports, i ? "pic-slave" : "pic-master", i ? 0xA0 : 0x20, 2, &pic_ops, &s->chip[i]);
        port_add(e, &s->chip[i].elcr_port, "elcr", (uint16_t)(0x4D0 + i), 1, &pic_elcr_ops, &s->chip[i]);
    }
    return 0;
}

static void pic_reset(struct device *dev)
{
    struct pic_pair *s = EMU_CONTAINER(dev, struct pic_pair, dev);
    unsigned i;
    for (i = 0; i < 2; i++) {
        struct pic *p = &s->chip[i];
        p->elcr = 0;
        pic_icw1(p, PIC_ICW1);
        p->vector_base = 0;
        p->expect = PIC_READY;
    }
    pic_update(s);
}

static void pic_destroy(struct device *dev)
{
    struct pic_pair *s = EMU_CONTAINER(dev, struct pic_pair, dev);
    unsigned i;
    for (i = 0; i < 2; i++) {
        region_remove(dev->emu, &dev->emu->ports, &s->chip[i].ports);
        region_remove(dev->emu, &dev->emu->ports, &s->chip[i].elcr_port);
    }
    if (chipset_of(dev->emu))
        chipset_of(dev->emu)->pic = NULL;
}

EMU_PRIV void pic_print_info(struct emu *e, struct buf *out)
{
    const struct pic_pair *s = chipset_of(e) ? chipset_of(e)->pic : NULL;
    unsigned i;
    for (i = 2; s && i-- > 0;) {
        const struct pic *p = &s->chip[i];
        buf_printf(out, "pic%u: irr=%02x imr=%02x isr=%02x hprio=%u irq_base=%02x rr_sel=%u elcr=%02x fnm=%u\n", i, p->irr, p->imr,
                   p->isr, (p->lowest + 1u) & 7, p->vector_base, p->read_isr, p->elcr, p->fully_nested_special);
    }
}

EMU_PRIV const struct device_class pic_class = {
    .name = "i8259", .bus = "isa", .help = "two 8259A interrupt controllers", .instance_size = sizeof(struct pic_pair),
    .create = pic_create, .reset = pic_reset, .destroy = pic_destroy,
};
