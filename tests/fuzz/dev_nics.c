/* dev_nics.c - fuzz: what a guest does to the registers and rings of e1000, rtl8139 and ne2k_pci.
 *
 * Input: the model (first byte modulo 3), then commands: first byte modulo 8 is the kind.
 *   0, 1 write a register (offset 16 bits, 4 bytes)   2 read one (offset)   3 memory at a multiple of 16 below 64 KiB (16 bits, 16 bytes)
 *   4 the wire gives a frame (length byte, seed byte)   5 the wire becomes full, or has room   6 time passes   7 write a byte
 * The wire takes no super-frames when the model byte has bit 7, so that they are cut.
 */
#include "machine.h"
#include "dev/dev.h"
#include "net/net.h"

enum { FUZZ_BAR = 0x10000000, FUZZ_PORTS = 0xC000, FUZZ_RAM = 1 << 20 };
static bool fuzz_full;

static void *fuzz_alloc(void *opaque, void *p, size_t size)
{
    (void)opaque;
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}
static void fuzz_irq(void *opaque, int line, int level)
{
    (void)opaque;
    (void)line;
    (void)level;
}
static bool fuzz_can_receive(struct net_port *p)
{
    (void)p;
    return !fuzz_full;
}
static int fuzz_receive(struct net_port *p, const struct net_frame *f)
{
    static uint8_t b[140000];
    (void)p;
    if (fuzz_full)
        return 0;
    if (f->size > sizeof b || net_frame_copy(f, 0, b, sizeof b) != f->size)
        abort();
    return 1;
}

static void fuzz_pci_write(struct emu *e, unsigned reg, uint32_t v)
{
    port_write(e, 0xCF8, 0x80000000u | 3 << 11 | reg, 4);
    port_write(e, 0xCFC, v, 4);
}

static void fuzz_time(struct emu *e, int64_t ns)
{
    int64_t end = emu_now_ns(e) + ns;
    unsigned n;
    for (n = 0; n < 100 && clock_next_deadline(e) <= end; n++) {
        clock_warp_to(e, EMU_MAX(clock_next_deadline(e), emu_now_ns(e)));
        clock_run_timers(e);
    }
    if (end > emu_now_ns(e))
        clock_warp_to(e, end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const models[] = { "e1000", "rtl8139", "ne2k_pci" };
    struct emu *e = calloc(1, sizeof *e);
    struct net_port wire;
    struct options o;
    struct err err;
    unsigned i, model = size ? (data[0] & 0x7F) % 3 : 0;
    size_t at = 1;
    if (!e || !size) {
        free(e);
        return 0;
    }
    e->alloc_fn = fuzz_alloc;
    e->config.icount = true;
    e->wake_read = e->wake_write = HOST_FD_NONE;
    clock_create(e);
    memory_create(e, NULL);
    e->ram = ram_block_create(e, "ram", FUZZ_RAM, false, NULL);
    region_init_ram(&e->ram_low, "ram", e->ram, 0, FUZZ_RAM);
    region_add(e, &e->memory, &e->ram_low, 0, MAP_PRIO_RAM);
    chipset_get(e);
    pci_bus_create(e, NULL);
    for (i = 0; i < 4; i++)
        e->pci->intx[i].set = fuzz_irq;
    memset(&wire, 0, sizeof wire);
    snprintf(wire.name, sizeof wire.name, "wire");
    wire.takes_gso = wire.takes_csum = !(data[0] & 0x80);
    wire.can_receive = fuzz_can_receive;
    wire.receive = fuzz_receive;
    fuzz_full = false;
    net_port_register(e, &wire);
    if (options_parse(&o, e, models[model], "netdev=wire,mac=52:54:00:12:34:56,addr=03", NULL, &err) || !device_create(e, models[model], NULL, &o, &err))
        abort();
    options_free(&o);
    e->devices->cls->reset(e->devices);
    fuzz_pci_write(e, model == 2 ? 0x14 : 0x10, model == 0 ? FUZZ_BAR : FUZZ_PORTS | 1);
    fuzz_pci_write(e, model == 0 ? 0x14 : 0x10, FUZZ_PORTS | 1);
    fuzz_pci_write(e, 0x04, 7);
    while (at < size) {
        uint8_t c[24] = { 0 };
        unsigned kind = data[at] & 7, want = kind < 2 ? 6 : kind == 2 ? 2 : kind == 3 ? 18 : kind == 4 ? 2 : kind == 7 ? 3 : 1;
        uint16_t offset;
        uint8_t more = data[at++];
        memcpy(c, data + at, EMU_MIN((size_t)want, size - at));
        at += want;
        offset = ld16le(c);
        switch (kind) {
        case 0:
        case 1:
            if (model == 0)
                mem_st(e, FUZZ_BAR + (offset & 0x7FFCu), ld32le(c + 2), 4);
            else
                port_write(e, (uint16_t)(FUZZ_PORTS + (offset & (model == 1 ? 0xFF : 0x1F))), ld32le(c + 2), more & 8 ? 2 : 4);
            break;
        case 2:
            if (model == 0)
                mem_ld(e, FUZZ_BAR + (offset & 0x1FFFCu), 4);
            else
                port_read(e, (uint16_t)(FUZZ_PORTS + (offset & (model == 1 ? 0xFF : 0x1F))), more & 8 ? 1 : 4);
            break;
        case 3: mem_write(e, (offset & 0xFFFu) * 16, c + 2, 16); break;
        case 4: {
            static uint8_t frame[9216];
            struct host_iov v;
            struct net_frame f;
            memset(frame, c[1], sizeof frame);
            if (more & 8)
                memcpy(frame, "\x52\x54\x00\x12\x34\x56", 6);
            else
                memset(frame, 0xFF, 6);
            memset(&f, 0, sizeof f);
            v.base = frame;
            v.size = (size_t)c[0] * (more & 16 ? 36 : 6);
            f.pieces = &v;
            f.count = 1;
            f.size = v.size;
            net_send(&wire, &f);
            break;
        }
        case 5:
            fuzz_full = !fuzz_full;
            if (!fuzz_full)
                net_kick_peer(&wire);
            break;
        case 6: fuzz_time(e, (int64_t)c[0] << (more >> 3)); break;
        default: /* 7: most drivers' registers are bytes */
            if (model == 0)
                port_write(e, (uint16_t)(FUZZ_PORTS + (offset & 7)), c[2], 1);
            else
                port_write(e, (uint16_t)(FUZZ_PORTS + (offset & (model == 1 ? 0xFF : 0x1F))), c[2], 1);
            break;
        }
    }
    while (e->devices)
        device_destroy(e->devices);
    net_port_unregister(e, &wire);
    pci_bus_destroy(e);
    chipset_free(e);
    memory_destroy(e);
    clock_destroy(e);
    free(e);
    return 0;
}
