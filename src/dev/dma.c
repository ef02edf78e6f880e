/* dev/dma.c - two 8237A DMA controllers and the page registers.
 *
 * Models     Intel 8237A-5 data sheet 231466; page registers and cascade as in the PC AT (and PIIX3 290550-002 §2.5.1).
 * Contract   Guests program ports 00h-0Fh, C0h-DFh, 81h-8Fh. A device that has DREQ up calls dma8237_transfer(): it is the transfer.
 * Theory     Nothing moves by itself: the device's call moves as much as buffer and count allow and tells terminal count. Channels 4-7 count words:
 *            their address is shifted by one. The address wraps inside its 64 KiB (128 KiB) page.
 * Invariants 1. flip_flop says which byte of a 16-bit register the next access means; both controllers have one.
 *            2. A masked or disabled channel moves nothing.
 * Missing    Memory to memory, compressed timing, software requests without a device.
 */
#include "../machine.h"
#include "dev.h"

enum {
    DMA_COMMAND = 8, DMA_REQUEST = 9, DMA_MASK_ONE = 10, DMA_MODE = 11, DMA_CLEAR_FLIP_FLOP = 12, DMA_MASTER_CLEAR = 13, DMA_CLEAR_MASK = 14,
    DMA_MASK_ALL = 15,
    DMA_COMMAND_DISABLE = 4, DMA_MODE_TYPE = 0x0C, DMA_MODE_WRITE = 0x04, DMA_MODE_READ = 0x08, DMA_MODE_AUTO = 0x10, DMA_MODE_DOWN = 0x20
};

struct dma_channel {
    uint16_t base_address, base_count, address, count;
    uint8_t mode;
};
struct dma_controller {
    struct dma_channel channel[4];
    uint8_t command, status, mask, request;
    bool flip_flop;
    unsigned shift; /* 0: bytes, 1: words */
    struct region ports;
};
struct dma {
    struct device dev;
    struct dma_controller controller[2];
    uint8_t page[16];
    struct region pages;
};

static const uint8_t dma_page_of[8] = { 0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA }; /* register 80h + n of each channel */

/* ---- transfers ---- */

/* Moves bytes at the channel's present address; at most up to the end of its page. */
static size_t dma_move(struct dma *s, unsigned n, uint8_t *buf, size_t size, bool to_memory)
{
    struct dma_controller *c = &s->controller[n >> 2];
    struct dma_channel *ch = &c->channel[n & 3];
    uint32_t page = s->page[dma_page_of[n]], window = UINT32_C(0x10000) << c->shift;
    uint32_t offset = (uint32_t)ch->address << c->shift;
    uint64_t gpa = ((uint64_t)page << 16 & ~(uint64_t)(window - 1)) | offset;
    bool verify = (ch->mode & DMA_MODE_TYPE) == 0;
    size_t i, unit = (size_t)1 << c->shift;
    if (ch->mode & DMA_MODE_DOWN) {
        size = unit;
    } else if (size > window - offset) {
        size = window - offset;
    }
    for (i = 0; !verify && i < size; i += EMU_MIN(size - i, 4096)) {
        size_t part = EMU_MIN(size - i, 4096);
        if (to_memory)
            dma_write(s->dev.emu, gpa + i, buf + i, part);
        else
            dma_read(s->dev.emu, gpa + i, buf + i, part);
    }
    if (verify && !to_memory)
        memset(buf, 0, size);
    ch->address = (uint16_t)(ch->address + ((ch->mode & DMA_MODE_DOWN) ? 0xFFFFu : (unsigned)(size >> c->shift)));
    return size;
}

EMU_PRIV size_t dma8237_transfer(struct emu *e, unsigned channel, uint8_t *buf, size_t size, bool to_memory, bool *terminal_count)
{
    struct dma *s = chipset_of(e) ? chipset_of(e)->dma : NULL;
    struct dma_controller *c;
    struct dma_channel *ch;
    size_t done = 0;
    *terminal_count = false;
    if (!s || channel > 7 || channel == 4)
        return 0;
    c = &s->controller[channel >> 2];
    ch = &c->channel[channel & 3];
    if ((c->command & DMA_COMMAND_DISABLE) || ((c->mask >> (channel & 3)) & 1))
        return 0;
    if ((ch->mode & DMA_MODE_TYPE) != 0 && (ch->mode & DMA_MODE_TYPE) != (to_memory ? DMA_MODE_WRITE : DMA_MODE_READ)) {
        emu_log(e, LOG_GUEST_ERROR, "dma: channel %u is set up for the other direction (mode %02x)", channel, ch->mode);
        return 0;
    }
    size &= ~(((size_t)1 << c->shift) - 1);
    while (done < size && !*terminal_count) {
        size_t left = ((size_t)ch->count + 1) << c->shift;
        size_t moved = dma_move(s, channel, buf + done, EMU_MIN(left, size - done), to_memory);
        done += moved;
        *terminal_count = moved == left;
        ch->count = (uint16_t)(ch->count - (moved >> c->shift)); /* FFFFh at terminal count */
    }
    if (*terminal_count) {
        c->status |= (uint8_t)(1u << (channel & 3));
        if (ch->mode & DMA_MODE_AUTO) {
            ch->address = ch->base_address;
            ch->count = ch->base_count;
        } else {
            c->mask |= (uint8_t)(1u << (channel & 3));
        }
    }
    return done;
}

/* ---- registers ---- */

static uint64_t dma_port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct dma_controller *c = opaque;
    unsigned reg = (unsigned)(offset >> c->shift) & 15;
    uint16_t word;
    uint8_t status;
    (void)size;
    if (reg == DMA_COMMAND) {
        status = (uint8_t)(c->status | c->request << 4);
        c->status = 0;
        return status;
    }
    if (reg == DMA_MASK_ALL)
        return 0xF0 | c->mask;
    if (reg > 7)
        return 0;
    word = (reg & 1) ? c->channel[reg >> 1].count : c->channel[reg >> 1].address;
    c->flip_flop = !c->flip_flop;
    return c->flip_flop ? word & 0xFF : word >> 8;
}

static void dma_master_clear(struct dma_controller *c)
{
    c->command = c->status = c->request = 0;
    c->mask = 0x0F;
    c->flip_flop = false;
}

static void dma_write_word(struct dma_controller *c, unsigned reg, uint8_t value)
{
    struct dma_channel *ch = &c->channel[reg >> 1];
    uint16_t *base = (reg & 1) ? &ch->base_count : &ch->base_address, *now = (reg & 1) ? &ch->count : &ch->address;
    c->flip_flop = !c->flip_flop;
    *base = (uint16_t)(c->flip_flop ? (*base & 0xFF00) | value : (*base & 0x00FF) | value << 8);
    *now = *base;
}

static void dma_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct dma_controller *c = opaque;
    unsigned reg = (unsigned)(offset >> c->shift) & 15;
    uint8_t bit = (uint8_t)(1u << (value & 3));
    (void)size;
    switch (reg) {
    case DMA_COMMAND: c->command = (uint8_t)value; break;
    case DMA_REQUEST: c->request = (uint8_t)((value & 4) ? c->request | bit : c->request & ~bit); break;
    case DMA_MASK_ONE: c->mask = (uint8_t)((value & 4) ? c->mask | bit : c->mask & ~bit); break;
    case DMA_MODE: c->channel[value & 3].mode = (uint8_t)value; break;
    case DMA_CLEAR_FLIP_FLOP: c->flip_flop = false; break;
    case DMA_MASTER_CLEAR: dma_master_clear(c); break;
    case DMA_CLEAR_MASK: c->mask = 0; break;
    case DMA_MASK_ALL: c->mask = (uint8_t)value & 15; break;
    default: dma_write_word(c, reg, (uint8_t)value); break;
    }
}

static uint64_t dma_page_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)size;
    return ((struct dma *)opaque)->page[1 + offset];
}

static void dma_page_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    ((struct dma *)opaque)->page[1 + offset] = (uint8_t)value;
}

static const struct region_ops dma_port_ops = { dma_port_read, dma_port_write, 1, 1, false };
static const struct region_ops dma_page_ops = { dma_page_read, dma_page_write, 1, 1, false };

/* ---- the device ---- */

static int dma_create(struct device *dev, struct options *opts, struct err *err)
{
    struct dma *s = EMU_CONTAINER(dev, struct dma, dev);
    struct emu *e = dev->emu;
    (void)opts;
    if (!chipset_get(e))
        return err_set(err, EMU_ENOMEM, "out of memory");
    chipset_of(e)->dma = s;
    s->controller[1].shift = 1;
    port_add(e, &s->controller[0].ports, "dma1", 0x00, 16, &dma_port_ops, &s->controller[0]);
    port_add(e, &s->controller[1].ports, "dma2", 0xC0, 32, &dma_port_ops, &s->controller[1]);
    return port_add(e, &s->pages, "dma-page", 0x81, 15, &dma_page_ops, s);
}

static void dma_reset(struct device *dev)
{
    struct dma *s = EMU_CONTAINER(dev, struct dma, dev);
    unsigned i;
    for (i = 0; i < 2; i++) {
        memset(s->controller[i].channel, 0, sizeof s->controller[i].channel);
        dma_master_clear(&s->controller[i]);
    }
    memset(s->page, 0, sizeof s->page);
}

static void dma_destroy(struct device *dev)
{
    struct dma *s = EMU_CONTAINER(dev, struct dma, dev);
    struct emu *e = dev->emu;
    region_remove(e, &e->ports, &s->controller[0].ports);
    region_remove(e, &e->ports, &s->controller[1].ports);
    region_remove(e, &e->ports, &s->pages);
    if (chipset_of(e))
        chipset_of(e)->dma = NULL;
}

EMU_PRIV const struct device_class dma_class = {
    .name = "i8237", .bus = "isa", .help = "two 8237A DMA controllers", .instance_size = sizeof(struct dma),
    .create = dma_create, .reset = dma_reset, .destroy = dma_destroy,
};
