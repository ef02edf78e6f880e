/* dev/testdev.c - devices for test programs: debugcon, debug exit, pc-testdev, pci-testdev.
 *
 * Models     QEMU's isa-debugcon, isa-debug-exit, pc-testdev (as kvm-unit-tests use it) and pci-testdev (docs/specs/pci-testdev).
 * Contract   -device NAME,... each. The debug console writes to a character device; the debug exit ends the run with (value << 1) | 1.
 * Theory     Plain registers. pc-testdev: a 32-bit latch at E0h (and, by bytes, at E8h), a cell at E4h, interrupt inputs
 *            0-23 at 2000h + n, 64 KiB of memory at FF000000h. pci-testdev: each of BAR 0 (memory) and BAR 1 (ports) describes the
 *            chosen access test in its first bytes; accesses that match it are counted.
 * Invariants 1. Guest offsets stay inside the arrays by the regions' sizes.
 * Missing    ioeventfd: the pci-testdev tests that would use it count in the same way without.
 */
#include "../machine.h"
#include "dev.h"

/* ---- isa-debugcon ---- */

struct debugcon {
    struct device dev;
    struct region port;
    struct chr *chr;
    uint64_t readback;
};

static uint64_t debugcon_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)offset;
    (void)size;
    return ((struct debugcon *)opaque)->readback;
}

static void debugcon_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct debugcon *s = opaque;
    uint8_t byte = (uint8_t)value;
    (void)offset;
    (void)size;
    chr_write(s->chr, &byte, 1); /* there is no flow control: what a full backend does not take is lost */
}

static const struct region_ops debugcon_ops = { debugcon_read, debugcon_write, 1, 1, false };

static int debugcon_create(struct device *dev, struct options *opts, struct err *err)
{
    struct debugcon *s = EMU_CONTAINER(dev, struct debugcon, dev);
    const char *id = options_get(opts, "chardev");
    uint64_t port = 0xE9;
    s->readback = 0xE9;
    if (options_u64(opts, "iobase", 0, 0xFFFF, &port, err) || options_u64(opts, "readback", 0, 0xFF, &s->readback, err))
        return EMU_EINVAL;
    if (!id)
        return err_set(err, EMU_EINVAL, "isa-debugcon: needs chardev=ID");
    s->chr = chr_find(dev->emu, id);
    if (!s->chr)
        return err_set(err, EMU_ENOENT, "isa-debugcon: there is no chardev %s", id);
    if (s->chr->in_use)
        return err_set(err, EMU_EBUSY, "isa-debugcon: chardev %s is used by another device", id);
    s->chr->in_use = true;
    return port_add(dev->emu, &s->port, "debugcon", (uint16_t)port, 1, &debugcon_ops, s);
}

static void debugcon_destroy(struct device *dev)
{
    struct debugcon *s = EMU_CONTAINER(dev, struct debugcon, dev);
    region_remove(dev->emu, &dev->emu->ports, &s->port);
    s->chr->in_use = false;
}

static const struct opt_desc debugcon_options[] = {
    { "iobase", "u32", "port (0xe9)" },
    { "chardev", "chardev", "where the bytes go" },
    { "readback", "u32", "what a read of the port gives (0xe9)" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class debugcon_class = {
    .name = "isa-debugcon", .bus = "isa", .help = "debug console: each byte written to a port is printed", .options = debugcon_options,
    .instance_size = sizeof(struct debugcon), .create = debugcon_create, .destroy = debugcon_destroy, .user_creatable = true,
};

/* ---- isa-debug-exit ---- */

struct debug_exit {
    struct device dev;
    struct region port;
};

static uint64_t debug_exit_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque;
    (void)offset;
    (void)size;
    return 0;
}

static void debug_exit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)size;
    emu_exit_with(((struct debug_exit *)opaque)->dev.emu, (int)(((value & 0x3FFFFFFF) << 1) | 1));
}

static const struct region_ops debug_exit_ops = { debug_exit_read, debug_exit_write, 1, 4, true };

static int debug_exit_create(struct device *dev, struct options *opts, struct err *err)
{
    struct debug_exit *s = EMU_CONTAINER(dev, struct debug_exit, dev);
    uint64_t port = 0x501, size = 2;
    if (options_u64(opts, "iobase", 0, 0xFFFF, &port, err) || options_u64(opts, "iosize", 1, 16, &size, err))
        return EMU_EINVAL;
    return port_add(dev->emu, &s->port, "debug-exit", (uint16_t)port, (unsigned)size, &debug_exit_ops, s);
}

static void debug_exit_destroy(struct device *dev)
{
    region_remove(dev->emu, &dev->emu->ports, &EMU_CONTAINER(dev, struct debug_exit, dev)->port);
}

static const struct opt_desc debug_exit_options[] = {
    { "iobase", "u32", "port (0x501)" },
    { "iosize", "u32", "number of ports (2)" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class debug_exit_class = {
    .name = "isa-debug-exit", .bus = "isa", .help = "a write to a port ends emu with (value << 1) | 1", .options = debug_exit_options,
    .instance_size = sizeof(struct debug_exit), .create = debug_exit_create, .destroy = debug_exit_destroy, .user_creatable = true,
};

/* ---- pc-testdev ---- */

enum { PC_TESTDEV_PORT = 0xE0, PC_TESTDEV_FLUSH = 0xE4, PC_TESTDEV_BYTES = 0xE8, PC_TESTDEV_IRQS = 0x2000, PC_TESTDEV_LINES = 24, PC_TESTDEV_MEMORY = 0x10000 };
#define PC_TESTDEV_BASE UINT64_C(0xFF000000)

struct pc_testdev {
    struct device dev;
    struct region port, flush, bytes, lines, memory;
    uint8_t latch[4], flush_cell[4];
    uint8_t cells[PC_TESTDEV_MEMORY];
};

static uint64_t pc_testdev_port_read(void *opaque, uint64_t offset, unsigned size) { return ldn_le((uint8_t *)opaque + offset, size); }
static void pc_testdev_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size) { stn_le((uint8_t *)opaque + offset, value, size); }
static uint64_t pc_testdev_memory_read(void *opaque, uint64_t offset, unsigned size) { return ldn_le((uint8_t *)opaque + offset, size); }
static void pc_testdev_memory_write(void *opaque, uint64_t offset, uint64_t value, unsigned size) { stn_le((uint8_t *)opaque + offset, value, size); }

static uint64_t pc_testdev_line_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque;
    (void)offset;
    (void)size;
    return 0;
}

static void pc_testdev_line_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pc_testdev *s = opaque;
    struct irq line = board_gsi(s->dev.emu, (int)offset);
    (void)size;
    irq_set(&line, value != 0);
}

static const struct region_ops pc_testdev_port_ops = { pc_testdev_port_read, pc_testdev_port_write, 1, 4, true };
static const struct region_ops pc_testdev_byte_ops = { pc_testdev_port_read, pc_testdev_port_write, 1, 1, false };
static const struct region_ops pc_testdev_line_ops = { pc_testdev_line_read, pc_testdev_line_write, 1, 1, false };
static const struct region_ops pc_testdev_memory_ops = { pc_testdev_memory_read, pc_testdev_memory_write, 1, 8, true };

static int pc_testdev_create(struct device *dev, struct options *opts, struct err *err)
{
    struct pc_testdev *s = EMU_CONTAINER(dev, struct pc_testdev, dev);
    struct emu *e = dev->emu;
    (void)opts;
    (void)err;
    port_add(e, &s->port, "pc-testdev-ioport", PC_TESTDEV_PORT, 4, &pc_testdev_port_ops, s->latch);
    port_add(e, &s->flush, "pc-testdev-flush-page", PC_TESTDEV_FLUSH, 4, &pc_testdev_port_ops, s->flush_cell);
    port_add(e, &s->bytes, "pc-testdev-ioport-byte", PC_TESTDEV_BYTES, 4, &pc_testdev_byte_ops, s->latch);
    s->bytes.priority = 1; /* E9h is the debug console's by default; kvm-unit-tests mean this one */
    port_add(e, &s->lines, "pc-testdev-irq-line", PC_TESTDEV_IRQS, PC_TESTDEV_LINES, &pc_testdev_line_ops, s);
    region_init_io(&s->memory, "pc-testdev-iomem", &pc_testdev_memory_ops, s->cells, PC_TESTDEV_MEMORY);
    return region_add(e, &e->memory, &s->memory, PC_TESTDEV_BASE, MAP_PRIO_CHIP);
}

static void pc_testdev_destroy(struct device *dev)
{
    struct pc_testdev *s = EMU_CONTAINER(dev, struct pc_testdev, dev);
    struct emu *e = dev->emu;
    region_remove(e, &e->ports, &s->port);
    region_remove(e, &e->ports, &s->flush);
    region_remove(e, &e->ports, &s->bytes);
    region_remove(e, &e->ports, &s->lines);
    region_remove(e, &e->memory, &s->memory);
}

EMU_PRIV const struct device_class pc_testdev_class = {
    .name = "pc-testdev", .bus = "isa", .help = "test registers and interrupt lines for kvm-unit-tests", .instance_size = sizeof(struct pc_testdev),
    .create = pc_testdev_create, .destroy = pc_testdev_destroy, .user_creatable = true,
};

/* ---- pci-testdev ---- */

enum {
    PCI_TESTDEV_MEM_SIZE = 4096, PCI_TESTDEV_IO_SIZE = 256, PCI_TESTDEV_HEADER = 64,
    PCI_TESTDEV_TEST = 0, PCI_TESTDEV_WIDTH = 1, PCI_TESTDEV_OFFSET = 4, PCI_TESTDEV_DATA = 8, PCI_TESTDEV_COUNT = 12, PCI_TESTDEV_NAME = 16,
    PCI_TESTDEV_TESTS = 3, PCI_TESTDEV_NO_TEST = 0xFF, PCI_TESTDEV_MATCH_DATA = 0xFA, PCI_TESTDEV_PLACE = 0x40 /* of the first test's access */
};

struct pci_testdev_bar {
    uint8_t header[PCI_TESTDEV_HEADER];
    bool any_data;
};
struct pci_testdev {
    struct pci_device pci;
    struct pci_testdev_bar bar[2];
    struct ram_block *extra;
};

static void pci_testdev_choose(struct pci_testdev_bar *b, unsigned test, const char *space)
{
    static const char *const names[PCI_TESTDEV_TESTS] = { "no-eventfd", "wildcard-eventfd", "datamatch-eventfd" };
    memset(b->header, 0, sizeof b->header);
    if (test >= PCI_TESTDEV_TESTS) { /* name empty: there is no such test */
        b->header[PCI_TESTDEV_TEST] = PCI_TESTDEV_NO_TEST;
        return;
    }
    b->header[PCI_TESTDEV_TEST] = (uint8_t)test;
    b->header[PCI_TESTDEV_WIDTH] = 1;
    st32le(b->header + PCI_TESTDEV_OFFSET, PCI_TESTDEV_PLACE + 16 * test);
    b->header[PCI_TESTDEV_DATA] = PCI_TESTDEV_MATCH_DATA;
    b->any_data = test == 1;
    snprintf((char *)b->header + PCI_TESTDEV_NAME, PCI_TESTDEV_HEADER - PCI_TESTDEV_NAME, "%s-%s", space, names[test]);
}

static uint64_t pci_testdev_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct pci_testdev_bar *b = opaque;
    return offset + size <= PCI_TESTDEV_HEADER ? ldn_le(b->header + offset, size) : 0;
}

static void pci_testdev_write(struct pci_testdev_bar *b, uint64_t offset, uint64_t value, unsigned size, const char *space)
{
    uint32_t width = b->header[PCI_TESTDEV_WIDTH];
    if (offset == PCI_TESTDEV_TEST) {
        pci_testdev_choose(b, (unsigned)(value & 0xFF), space);
        return;
    }
    if (b->header[PCI_TESTDEV_TEST] == PCI_TESTDEV_NO_TEST || offset != ld32le(b->header + PCI_TESTDEV_OFFSET) || size != width)
        return;
    if (b->any_data || (uint8_t)value == b->header[PCI_TESTDEV_DATA])
        st32le(b->header + PCI_TESTDEV_COUNT, ld32le(b->header + PCI_TESTDEV_COUNT) + 1);
}

static void pci_testdev_mem_write(void *opaque, uint64_t offset, uint64_t value, unsigned size) { pci_testdev_write(opaque, offset, value, size, "mmio"); }
static void pci_testdev_io_write(void *opaque, uint64_t offset, uint64_t value, unsigned size) { pci_testdev_write(opaque, offset, value, size, "portio"); }

static const struct region_ops pci_testdev_mem_ops = { pci_testdev_read, pci_testdev_mem_write, 1, 4, true };
static const struct region_ops pci_testdev_io_ops = { pci_testdev_read, pci_testdev_io_write, 1, 4, true };

static void pci_testdev_reset(struct device *dev)
{
    struct pci_testdev *s = EMU_CONTAINER(dev, struct pci_testdev, pci.dev);
    pci_testdev_choose(&s->bar[0], PCI_TESTDEV_NO_TEST, "");
    pci_testdev_choose(&s->bar[1], PCI_TESTDEV_NO_TEST, "");
}

static int pci_testdev_create(struct device *dev, struct options *opts, struct err *err)
{
    struct pci_testdev *s = EMU_CONTAINER(dev, struct pci_testdev, pci.dev);
    uint64_t extra = 0;
    int devfn = -1, r;
    if (pci_parse_devfn(opts, &devfn, err) || options_size(opts, "membar", &extra, err))
        return EMU_EINVAL;
    if (extra & (extra - 1) || (extra && extra < 4096))
        return err_set(err, EMU_EINVAL, "pci-testdev: membar is not a power of two of at least 4K");
    if (extra && !(s->extra = ram_block_create(dev->emu, "pci-testdev-membar", extra, false, err)))
        return EMU_ENOMEM;
    r = pci_device_init(&s->pci, devfn, 0x1B36, 0x0005, 0x00FF0000, err);
    if (r < 0)
        return r;
    pci_add_bar_io(&s->pci, 0, "pci-testdev-mmio", PCI_TESTDEV_MEM_SIZE, false, &pci_testdev_mem_ops, &s->bar[0]);
    pci_add_bar_io(&s->pci, 1, "pci-testdev-portio", PCI_TESTDEV_IO_SIZE, true, &pci_testdev_io_ops, &s->bar[1]);
    if (s->extra) {
        s->pci.bars[2].mem64 = true;
        pci_add_bar_ram(&s->pci, 2, s->extra, true);
    }
    pci_testdev_reset(dev);
    return 0;
}

static void pci_testdev_destroy(struct device *dev) { pci_device_remove(&EMU_CONTAINER(dev, struct pci_testdev, pci.dev)->pci); }

static const struct opt_desc pci_testdev_options[] = {
    { "addr", "str", "PCI slot[.function]" },
    { "membar", "size", "size of an extra 64-bit memory BAR (0: none)" },
    { NULL, NULL, NULL },
};

EMU_PRIV const struct device_class pci_testdev_class = {
    .name = "pci-testdev", .bus = "pci", .help = "PCI device that counts accesses", .options = pci_testdev_options,
    .instance_size = sizeof(struct pci_testdev), .create = pci_testdev_create, .reset = pci_testdev_reset, .destroy = pci_testdev_destroy,
    .user_creatable = true,
};
#undef PC_TESTDEV_BASE
