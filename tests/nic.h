/* nic.h - a machine without CPU and with one network card, for the register-level tests: the test is the guest, a port that keeps frames is the wire. */
#ifndef NIC_H
#define NIC_H

#include "machine.h"
#include "dev/dev.h"
#include "net/net.h"
#include "test.h"

enum { NIC_PORTS = 0xC000 };

struct nic {
    struct emu emu;
    struct net_port wire;
    int level; /* of the interrupt line */
    unsigned rises, frames, kicks;
    uint8_t last[70000];
    size_t last_size;
    struct net_frame last_frame;
    bool full;
};

static const uint8_t nic_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

static void *nic_alloc(void *opaque, void *p, size_t size)
{
    (void)opaque;
    if (!size) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

static void nic_irq(void *opaque, int line, int level)
{
    struct nic *m = opaque;
    (void)line;
    if (level && !m->level)
        m->rises++;
    m->level = level;
}

static bool nic_can_receive(struct net_port *p) { return !((struct nic *)p->opaque)->full; }
static int nic_receive(struct net_port *p, const struct net_frame *f)
{
    struct nic *m = p->opaque;
    if (m->full)
        return 0;
    m->frames++;
    m->last_frame = *f;
    m->last_size = net_frame_copy(f, 0, m->last, sizeof m->last);
    return 1;
}
static void nic_kick(struct net_port *p) { ((struct nic *)p->opaque)->kicks++; }

/* The card's ports. */
static void out(struct nic *m, unsigned reg, uint32_t v, unsigned size) { port_write(&m->emu, (uint16_t)(NIC_PORTS + reg), v, size); }
static uint32_t in(struct nic *m, unsigned reg, unsigned size) { return (uint32_t)port_read(&m->emu, (uint16_t)(NIC_PORTS + reg), size); }

static EMU_UNUSED void nic_wait(struct nic *m, int64_t ns)
{
    int64_t end = emu_now_ns(&m->emu) + ns;
    while (clock_next_deadline(&m->emu) <= end) {
        clock_warp_to(&m->emu, clock_next_deadline(&m->emu));
        clock_run_timers(&m->emu);
    }
    clock_warp_to(&m->emu, end);
    clock_run_timers(&m->emu);
}

static void pci_write(struct nic *m, unsigned reg, uint32_t v)
{
    port_write(&m->emu, 0xCF8, 0x80000000u | 3 << 11 | reg, 4);
    port_write(&m->emu, 0xCFC, v, 4);
}
static uint32_t pci_read(struct nic *m, unsigned reg)
{
    port_write(&m->emu, 0xCF8, 0x80000000u | 3 << 11 | reg, 4);
    return (uint32_t)port_read(&m->emu, 0xCFC, 4);
}

static struct nic *nic_new(const char *model)
{
    struct nic *m = calloc(1, sizeof *m);
    struct emu *e = &m->emu;
    struct options o;
    struct err err;
    unsigned i;
    e->alloc_fn = nic_alloc;
    e->config.icount = true;
    e->wake_read = e->wake_write = HOST_FD_NONE;
    clock_create(e);
    memory_create(e, NULL);
    e->ram = ram_block_create(e, "ram", 4 * MIB, false, NULL);
    region_init_ram(&e->ram_low, "ram", e->ram, 0, 4 * MIB);
    region_add(e, &e->memory, &e->ram_low, 0, MAP_PRIO_RAM);
    chipset_get(e);
    pci_bus_create(e, NULL);
    for (i = 0; i < 4; i++) {
        e->pci->intx[i].set = nic_irq;
        e->pci->intx[i].opaque = m;
    }
    snprintf(m->wire.name, sizeof m->wire.name, "wire");
    m->wire.opaque = m;
    m->wire.takes_gso = m->wire.takes_csum = true;
    m->wire.can_receive = nic_can_receive;
    m->wire.receive = nic_receive;
    m->wire.kick = nic_kick;
    net_port_register(e, &m->wire);
    options_parse(&o, e, model, "netdev=wire,mac=52:54:00:12:34:56,addr=03", NULL, &err);
    if (!device_create(e, model, NULL, &o, &err))
        printf("%s\n", err.text);
    options_free(&o);
    e->devices->cls->reset(e->devices);
    pci_write(m, 0x10, NIC_PORTS | 1);
    pci_write(m, 0x04, 7);
    return m;
}

static void nic_free(struct nic *m)
{
    struct emu *e = &m->emu;
    while (e->devices)
        device_destroy(e->devices);
    net_port_unregister(e, &m->wire);
    pci_bus_destroy(e);
    chipset_free(e);
    memory_destroy(e);
    clock_destroy(e);
    free(m);
}

/* A frame of the wire's; bytes behind the addresses count up. */
static void nic_frame(uint8_t *f, size_t size, const char *dst)
{
    size_t i;
    for (i = 0; i < size; i++)
        f[i] = (uint8_t)(i * 5 + i / 256);
    memcpy(f, dst ? (const uint8_t *)dst : nic_mac, 6);
    st16be(f + 12, 0x88B5); /* IEEE 802 local experimental */
}

static int nic_give(struct nic *m, const uint8_t *bytes, size_t size)
{
    struct host_iov piece;
    struct net_frame f;
    memset(&f, 0, sizeof f);
    piece.base = (void *)(uintptr_t)bytes;
    piece.size = size;
    f.pieces = &piece;
    f.count = 1;
    f.size = size;
    return net_send(&m->wire, &f);
}

#endif
