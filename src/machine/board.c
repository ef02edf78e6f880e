/* machine/board.c - the PC: which devices there are, how they are wired, reset.
 *
 * Models     QEMU's machine "pc": i440FX + PIIX3, with its PCI slots (00.0 host bridge, 01.0 ISA, 01.1 IDE, 01.3 power management, 02.0 VGA,
 *            03.0 first network card).
 * Contract   front/api.c calls board_create() once, after memory and clock; board_destroy() copes with half a board.
 * Theory     One table lists every device class. board_create() makes RAM, chips and default devices, then those of -device, then
 *            the drives, then firmware. Devices are kept in a list and destroyed in the opposite order.
 * Invariants 1. emu->devices holds every created device, newest first.
 *            2. RAM below 4 GiB ends at BOARD_LOW_RAM at most; the rest follows from 4 GiB on.
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "../dev/dev.h"

/* As QEMU's pc: 3 GiB below the PCI hole when there is more than 3.5 GiB in all. */
#define BOARD_LOW_RAM_MAX UINT64_C(0xE0000000)
#define BOARD_LOW_RAM_SPLIT UINT64_C(0xC0000000)
#define BOARD_4G (UINT64_C(1) << 32)

/* ORDER: shown by -device help in this order. */
static const struct device_class *const board_classes[] = {
    &i440fx_class, &piix3_class, &piix4_pm_class, &port92_class, &pic_class, &ioapic_class, &lapic_class, &pit_class, &hpet_class,
    &rtc_class, &dma_class, &fw_cfg_class, &fdc_class, &uart_class, &parallel_class, &ps2_class, &vga_class, &ide_class, &ata_class,
    &atapi_class, &e1000_class, &rtl8139_class, &ne2k_class, &debugcon_class, &debug_exit_class, &pc_testdev_class, &pci_testdev_class,
};

EMU_PRIV const struct device_class *device_class_at(size_t i) { return i < EMU_ARRAY_LEN(board_classes) ? board_classes[i] : NULL; }

/* Cards are the PCI devices with a netdev option. */
EMU_PRIV bool board_class_is_nic(const struct device_class *cls)
{
    const struct opt_desc *o;
    for (o = cls->options; o && o->name; o++)
        if (!strcmp(o->type, "netdev"))
            return true;
    return false;
}

EMU_PRIV const struct device_class *device_class_find(const char *name)
{
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(board_classes); i++)
        if (!strcmp(board_classes[i]->name, name))
            return board_classes[i];
    return NULL;
}

EMU_PRIV struct device *device_create(struct emu *e, const char *class_name, const char *id, struct options *opts, struct err *err)
{
    const struct device_class *cls = device_class_find(class_name);
    struct options none;
    struct device *dev;
    int r;
    if (!cls) {
        err_set(err, EMU_EINVAL, "-device %s: unknown device; `-device help` lists them", class_name);
        return NULL;
    }
    memset(&none, 0, sizeof none);
    none.emu = e;
    none.origin = (char *)(uintptr_t)cls->name;
    dev = emu_alloc(e, cls->instance_size);
    if (!dev || (id && !(dev->id = emu_strdup(e, id)))) {
        emu_free(e, dev);
        err_set(err, EMU_ENOMEM, "%s: out of memory", class_name);
        return NULL;
    }
    dev->cls = cls;
    dev->emu = e;
    r = cls->create(dev, opts ? opts : &none, err);
    if (!r && opts) {
        r = options_check_used(opts, err);
        if (r && cls->destroy)
            cls->destroy(dev);
    }
    if (r) {
        emu_free(e, dev->id);
        emu_free(e, dev);
        return NULL;
    }
    dev->next = e->devices;
    e->devices = dev;
    return dev;
}

EMU_PRIV void device_destroy(struct device *dev)
{
    struct emu *e = dev->emu;
    struct device **p;
    for (p = &e->devices; *p; p = &(*p)->next)
        if (*p == dev) {
            *p = dev->next;
            break;
        }
    if (dev->cls->destroy)
        dev->cls->destroy(dev);
    emu_free(e, dev->id);
    emu_free(e, dev);
}

EMU_PRIV struct device *device_find(struct emu *e, const char *class_name)
{
    struct device *dev, *found = NULL;
    for (dev = e->devices; dev; dev = dev->next) /* newest first: the last match is the first device */
        if (!strcmp(dev->cls->name, class_name))
            found = dev;
    return found;
}

/* A device of the board itself, with options written as on the command line. */
static struct device *board_add(struct emu *e, const char *class_name, const char *id, struct err *err, const char *fmt, ...) EMU_PRINTF(5, 6);
static struct device *board_add(struct emu *e, const char *class_name, const char *id, struct err *err, const char *fmt, ...)
{
    char text[256];
    struct options opts;
    struct device *dev;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (options_parse(&opts, e, class_name, text, NULL, err))
        return NULL;
    dev = device_create(e, class_name, id, &opts, err);
    options_free(&opts);
    return dev;
}

EMU_PRIV struct irq board_gsi(struct emu *e, int gsi)
{
    struct irq irq;
    irq.set = chipset_set_gsi;
    irq.opaque = e;
    irq.line = gsi;
    return irq;
}

/* ---- input: every sink hears every event ---- */

EMU_PRIV void input_add(struct emu *e, struct input_sink *s)
{
    s->next = e->inputs;
    e->inputs = s;
}

EMU_PRIV void input_key(struct emu *e, int keynum, bool down)
{
    struct input_sink *s;
    for (s = e->inputs; s; s = s->next)
        if (s->key)
            s->key(s->opaque, keynum, down);
}

EMU_PRIV void input_mouse(struct emu *e, int dx, int dy, int dz, unsigned buttons)
{
    struct input_sink *s;
    for (s = e->inputs; s; s = s->next)
        if (s->mouse)
            s->mouse(s->opaque, dx, dy, dz, buttons);
}

/* ---- building ---- */

static int board_create_ram(struct emu *e, struct err *err)
{
    uint64_t size = e->config.ram_bytes;
    uint64_t low = size >= BOARD_LOW_RAM_MAX ? BOARD_LOW_RAM_SPLIT : size;
    e->ram = ram_block_create(e, "pc.ram", size, false, err);
    if (!e->ram)
        return EMU_ENOMEM;
    e->ram_below_4g = low;
    region_init_ram(&e->ram_low, "ram-below-4g", e->ram, 0, low);
    region_add(e, &e->memory, &e->ram_low, 0, MAP_PRIO_RAM);
    if (size > low) {
        region_init_ram(&e->ram_high, "ram-above-4g", e->ram, low, size - low);
        region_add(e, &e->memory, &e->ram_high, BOARD_4G, MAP_PRIO_RAM);
    }
    return 0;
}

static int board_create_cpus(struct emu *e, struct err *err)
{
    unsigned i;
    int r = trace_cache_create(e);
    if (r)
        return err_set(err, r, "out of memory for the trace cache");
    e->cpus = emu_alloc(e, e->config.cpus * sizeof *e->cpus);
    if (!e->cpus)
        return err_set(err, EMU_ENOMEM, "out of memory");
    for (i = 0; i < e->config.cpus; i++) {
        if ((r = cpu_create(e, i, &e->cpus[i], err)))
            return r;
        e->cpu_count++;
        if ((r = cpu_set_model(e->cpus[i], e->config.cpu_model, err)))
            return r;
    }
    return 0;
}

static int board_create_chips(struct emu *e, struct err *err)
{
    static const char *const chips[] = { "i440FX", "PIIX3", "i8259", "ioapic", "apic", "i8254", "hpet", "mc146818rtc", "i8237", "port92", "PIIX4_PM", "piix3-ide", "fw_cfg" };
    size_t i;
    for (i = 0; i < EMU_ARRAY_LEN(chips); i++) {
        if (!strcmp(chips[i], "hpet") && e->config.no_hpet)
            continue;
        if (!strcmp(chips[i], "PIIX4_PM") && e->config.no_acpi)
            continue;
        if (!board_add(e, chips[i], NULL, err, "%s", ""))
            return EMU_EINVAL;
    }
    for (i = 0; i < EMU_ARRAY_LEN(e->gsi); i++)
        e->gsi[i] = board_gsi(e, (int)i);
    return 0;
}

/* Does a -device line bring one of that class? Then the default of its kind is left out, as QEMU does. */
static bool board_line_has(const struct emu *e, const char *class_name)
{
    struct config_line *line;
    for (line = e->config.devices; line; line = line->next) {
        const char *driver = options_get(&line->opts, "driver");
        if (driver && !strcmp(driver, class_name))
            return true;
    }
    return false;
}

static int board_create_serial(struct emu *e, struct err *err)
{
    unsigned i;
    for (i = 0; i < EMU_ARRAY_LEN(e->config.serial); i++) {
        const char *spec = e->config.serial[i];
        char id[16];
        if (spec && !strcmp(spec, "none"))
            continue;
        if (!spec && (i || e->config.no_defaults || board_line_has(e, "isa-serial"))) /* COM1 is there: firmware and kernels look for it */
            continue;
        snprintf(id, sizeof id, "serial%u", i);
        if (!chr_open(e, id, spec ? spec : "null", err))
            return err_prefix(err, EMU_EINVAL, "-serial %s", spec ? spec : "null");
        if (!board_add(e, "isa-serial", NULL, err, "chardev=%s,index=%u", id, i))
            return EMU_EINVAL;
    }
    for (i = 0; i < EMU_ARRAY_LEN(e->config.parallel); i++) {
        const char *spec = e->config.parallel[i];
        char id[16];
        if ((spec && !strcmp(spec, "none")) || (!spec && (i || e->config.no_defaults || board_line_has(e, "isa-parallel"))))
            continue;
        snprintf(id, sizeof id, "parallel%u", i);
        if (!chr_open(e, id, spec ? spec : "null", err))
            return err_prefix(err, EMU_EINVAL, "-parallel %s", spec ? spec : "null");
        if (!board_add(e, "isa-parallel", NULL, err, "chardev=%s,index=%u", id, i))
            return EMU_EINVAL;
    }
    return 0;
}

/* ---- drives ---- */

/* Where a -drive line wants to be: interface and index; defaults to the first free IDE unit. */
static int board_drive_place(struct emu *e, struct config_line *line, bool taken[4], const char **interface, unsigned *index, struct err *err)
{
    struct options *o = &line->opts;
    uint64_t n = 0, bus = 0, unit = 0;
    const char *media = options_get(o, "media");
    bool cd = media && !strcmp(media, "cdrom");
    (void)e;
    *interface = options_get(o, "if");
    if (!*interface)
        *interface = "ide";
    if (media && !cd && strcmp(media, "disk"))
        return err_set(err, EMU_EINVAL, "%s: media=%s is not disk or cdrom", o->origin, media);
    if (!strcmp(*interface, "none"))
        return 0;
    if (!strcmp(*interface, "virtio") || !strcmp(*interface, "scsi") || !strcmp(*interface, "pflash") || !strcmp(*interface, "sd") || !strcmp(*interface, "mtd") ||
        !strcmp(*interface, "xen"))
        return err_set(err, EMU_ENOTSUP, "%s: if=%s is not supported yet; use if=ide", o->origin, *interface);
    if (strcmp(*interface, "ide") && strcmp(*interface, "floppy"))
        return err_set(err, EMU_EINVAL, "%s: if=%s is not ide, floppy or none", o->origin, *interface);
    if (!strcmp(*interface, "floppy")) {
        if (cd)
            return err_set(err, EMU_EINVAL, "%s: media=cdrom is no floppy; use if=ide", o->origin);
        if (options_u64(o, "index", 0, 1, &n, err) || options_u64(o, "unit", 0, 1, &n, err) || options_u64(o, "bus", 0, 0, &bus, err))
            return EMU_EINVAL;
        *index = (unsigned)n;
        return 0;
    }
    if (options_get(o, "index")) {
        if (options_u64(o, "index", 0, 3, &n, err))
            return EMU_EINVAL;
    } else if (options_get(o, "bus") || options_get(o, "unit")) {
        if (options_u64(o, "bus", 0, 1, &bus, err) || options_u64(o, "unit", 0, 1, &unit, err))
            return EMU_EINVAL;
        n = bus * 2 + unit;
    } else {
        for (n = cd && !taken[2] ? 2 : 0; n < 4 && taken[n]; n++)
            ;
    }
    if (n > 3 || taken[n])
        return err_set(err, EMU_EINVAL, "%s: IDE has four places (index=0 to 3) and %s; use if=none with -device for more", o->origin,
                       n > 3 ? "all are taken" : "this one is taken");
    taken[n] = true;
    *index = (unsigned)n;
    return 0;
}

static int board_create_drives(struct emu *e, struct blk *floppies[2], struct err *err)
{
    struct config_line *line;
    bool taken[4] = { false, false, false, false };
    unsigned auto_id = 0;
    int r;
    for (line = e->config.drives; line; line = line->next) {
        const char *interface, *id = options_get(&line->opts, "id"), *media;
        unsigned index = 0;
        char name[32];
        struct blk *b;
        if ((r = board_drive_place(e, line, taken, &interface, &index, err)))
            return r;
        media = options_get(&line->opts, "media");
        if (!id) {
            if (!strcmp(interface, "ide"))
                snprintf(name, sizeof name, "ide%u-%s%u", index / 2, media && !strcmp(media, "cdrom") ? "cd" : "hd", index % 2);
            else if (!strcmp(interface, "floppy"))
                snprintf(name, sizeof name, "floppy%u", index);
            else
                snprintf(name, sizeof name, "none%u", auto_id++);
            id = name;
        }
        if (blk_find(e, id))
            return err_set(err, EMU_EEXIST, "%s: there is a drive with id %s already", line->opts.origin, id);
        b = blk_create(e, id, err);
        if (!b)
            return EMU_ENOMEM;
        b->opts = &line->opts;
        b->removable = !strcmp(interface, "floppy") || (media && !strcmp(media, "cdrom"));
        if ((r = blk_open(b, &line->opts, err)) || (r = options_check_used(&line->opts, err)))
            return r;
        if (!strcmp(interface, "floppy")) {
            if (floppies[index])
                return err_set(err, EMU_EEXIST, "%s: there are two drives with floppy index %u", line->opts.origin, index);
            floppies[index] = b;
        } else if (!strcmp(interface, "ide") &&
                   !board_add(e, media && !strcmp(media, "cdrom") ? "ide-cd" : "ide-hd", NULL, err, "drive=%s,bus=ide.%u,unit=%u", id, index / 2, index % 2)) {
            return EMU_EINVAL;
        }
    }
    if (!e->config.no_defaults && !taken[2] && !board_line_has(e, "ide-cd") && !board_line_has(e, "ide-hd")) { /* QEMU's pc has an empty CD drive there */
        struct blk *b = blk_create(e, "ide1-cd0", err);
        if (!b)
            return EMU_ENOMEM;
        b->removable = true;
        if (!board_add(e, "ide-cd", NULL, err, "drive=ide1-cd0,bus=ide.1,unit=0"))
            return EMU_EINVAL;
    }
    return 0;
}

/* The cards that -net, -nic and the default ask for: 00:03.0 behind the VGA controller, then the next slots. */
static int board_create_nics(struct emu *e, struct err *err)
{
    struct net_nic *n;
    for (n = e->nics; n; n = n->next) {
        const struct device_class *cls = device_class_find(n->model);
        if (!cls || !board_class_is_nic(cls))
            return err_set(err, EMU_EINVAL, "-nic model=%s: unknown network card; `-nic model=help` lists them", n->model);
        if (!board_add(e, n->model, *n->id ? n->id : NULL, err, "netdev=%s%s%s%s%s", n->netdev, *n->mac ? ",mac=" : "", n->mac, *n->addr ? ",addr=" : "", n->addr))
            return EMU_EINVAL;
    }
    return 0;
}

static int board_create_devices(struct emu *e, struct err *err)
{
    struct config_line *line;
    for (line = e->config.devices; line; line = line->next) {
        const char *driver = options_get(&line->opts, "driver"), *id = options_get(&line->opts, "id");
        const struct device_class *cls = driver ? device_class_find(driver) : NULL;
        if (!driver)
            return err_set(err, EMU_EINVAL, "%s: needs a device name; `-device help` lists them", line->opts.origin);
        if (!cls || !cls->user_creatable)
            return err_set(err, EMU_EINVAL, "%s: unknown device; `-device help` lists them", line->opts.origin);
        if (!device_create(e, driver, id, &line->opts, err))
            return EMU_EINVAL;
    }
    return 0;
}

EMU_PRIV int board_create(struct emu *e, struct err *err)
{
    struct blk *floppies[2] = { NULL, NULL };
    char drives[64] = "";
    int r;
    if ((r = board_create_ram(e, err)) || (r = board_create_chips(e, err)) || (r = board_create_cpus(e, err)))
        return r;
    if (!board_add(e, "i8042", NULL, err, "%s", ""))
        return EMU_EINVAL;
    if (strcmp(e->config.vga, "none") && !board_line_has(e, "VGA") && !board_add(e, "VGA", NULL, err, "%s", ""))
        return EMU_EINVAL;
    if ((r = board_create_serial(e, err)) || (r = board_create_drives(e, floppies, err)))
        return r;
    if (floppies[0])
        snprintf(drives, sizeof drives, "driveA=%s", floppies[0]->id);
    if (floppies[1])
        snprintf(drives + strlen(drives), sizeof drives - strlen(drives), "%sdriveB=%s", *drives ? "," : "", floppies[1]->id);
    if (!board_add(e, "isa-fdc", NULL, err, "%s", drives))
        return EMU_EINVAL;
    if ((r = net_create(e, err)) || (r = board_create_nics(e, err)) || (r = board_create_devices(e, err)) || (r = net_create_filters(e, err)))
        return r;
    chipset_fill_cmos(e);
    return firmware_create(e, err);
}

EMU_PRIV void board_destroy(struct emu *e)
{
    unsigned i;
    firmware_destroy(e);
    while (e->devices)
        device_destroy(e->devices);
    net_destroy(e);
    for (i = 0; i < e->cpu_count; i++)
        cpu_destroy(e->cpus[i]);
    e->cpu_count = 0;
    emu_free(e, e->cpus);
    e->cpus = NULL;
    trace_cache_destroy(e);
    cpu_decode_destroy(e);
    chipset_free(e);
}

/* Devices in the order of their creation: the list is newest first. */
static void board_reset_devices(struct device *dev)
{
    if (!dev)
        return;
    board_reset_devices(dev->next);
    if (dev->cls->bus && !strcmp(dev->cls->bus, "pci"))
        pci_device_reset((struct pci_device *)dev);
    if (dev->cls->reset)
        dev->cls->reset(dev);
}

EMU_PRIV void board_reset(struct emu *e)
{
    unsigned i;
    if (e->config.boot_once_left) {
        char order[sizeof e->config.boot_order];
        memcpy(order, e->config.boot_order, sizeof order);
        memcpy(e->config.boot_order, e->config.boot_once, sizeof order);
        memcpy(e->config.boot_once, order, sizeof order);
        e->config.boot_once_left--;
        chipset_set_boot_order(e);
    }
    e->a20_mask = UINT64_MAX;
    board_reset_devices(e->devices);
    for (i = 0; i < e->cpu_count; i++)
        cpu_reset(e->cpus[i], false);
    firmware_reset(e);
}
#undef BOARD_LOW_RAM_MAX
#undef BOARD_LOW_RAM_SPLIT
#undef BOARD_4G
