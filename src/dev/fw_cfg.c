/* dev/fw_cfg.c - QEMU's firmware configuration device.
 *
 * Models     QEMU docs/specs/fw_cfg: selector 510h, data 511h, DMA 514h-51Bh (ports), signature "QEMU", file directory at key 19h.
 * Contract   Board, firmware and loader add keys and files at any time, also at every reset: a name or key that exists is replaced. Files of
 *            -fw_cfg are read when the device is created. Guests: SeaBIOS, OVMF, Linux's qemu_fw_cfg, small kernels.
 * Theory     Items are byte arrays by number; files take numbers from 20h on in the order in which they come, and the directory is an item
 *            like the others, built anew with each file. Reading past an item's end gives zeros. The DMA port takes the big-endian
 *            address of a request {control, length, address}, works it off at once and writes the outcome to its control word.
 * Invariants 1. item[n].data has item[n].size bytes, or both are zero.
 *            2. The directory lists every file, with its current size.
 * Missing    Writable items: a DMA write ends with the error bit.
 */
#include "../machine.h"
#include "dev.h"

enum {
    FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NOGRAPHIC = 0x04, FW_CFG_CPUS = 0x05,
    FW_CFG_BOOT_MENU = 0x0E, FW_CFG_MAX_CPUS = 0x0F, FW_CFG_DIRECTORY = 0x19, FW_CFG_FIRST_FILE = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002, FW_CFG_HPET = 0x8004, FW_CFG_ARCH = 0x8000, FW_CFG_WRITE_KEY = 0x4000,
    FW_CFG_FILES = 256, FW_CFG_ITEMS = FW_CFG_FIRST_FILE + FW_CFG_FILES, FW_CFG_ARCH_ITEMS = 16,
    FW_CFG_NAME = 56, FW_CFG_ENTRY = 64,
    FW_CFG_DMA_ERROR = 1, FW_CFG_DMA_READ = 2, FW_CFG_DMA_SKIP = 4, FW_CFG_DMA_SELECT = 8, FW_CFG_DMA_WRITE = 16, FW_CFG_DMA_REQUEST = 16
};
#define FW_CFG_LIMIT (256u << 20) /* largest file of -fw_cfg */

struct fw_cfg_item {
    uint8_t *data;
    uint32_t size;
};
struct fw_cfg {
    struct device dev;
    struct region ports, dma;
    struct fw_cfg_item item[FW_CFG_ITEMS], arch[FW_CFG_ARCH_ITEMS];
    char name[FW_CFG_FILES][FW_CFG_NAME];
    unsigned files;
    uint16_t selected;
    uint32_t offset;
    uint8_t dma_address[8]; /* as written, big-endian */
};

/* ---- items ---- */

static struct fw_cfg_item *fw_cfg_item(struct fw_cfg *s, unsigned key)
{
    key &= ~(unsigned)FW_CFG_WRITE_KEY;
    if (key < FW_CFG_ITEMS)
        return &s->item[key];
    return key >= FW_CFG_ARCH && key < FW_CFG_ARCH + FW_CFG_ARCH_ITEMS ? &s->arch[key - FW_CFG_ARCH] : NULL;
}

EMU_PRIV int fw_cfg_add_key(struct emu *e, uint16_t key, const void *data, size_t size)
{
    struct fw_cfg *s = e->fw_cfg;
    struct fw_cfg_item *item = s ? fw_cfg_item(s, key) : NULL;
    uint8_t *copy;
    if (!item || size > UINT32_MAX)
        return EMU_ERANGE;
    copy = size ? emu_alloc(e, size) : NULL;
    if (size && !copy)
        return EMU_ENOMEM;
    if (size)
        memcpy(copy, data, size);
    emu_free(e, item->data);
    item->data = copy;
    item->size = (uint32_t)size;
    return 0;
}

static int fw_cfg_build_directory(struct fw_cfg *s)
{
    struct emu *e = s->dev.emu;
    size_t size = 4 + (size_t)s->files * FW_CFG_ENTRY;
    uint8_t *directory = emu_alloc(e, size), *p;
    unsigned i;
    int r;
    if (!directory)
        return EMU_ENOMEM;
    st32be(directory, s->files);
    for (i = 0, p = directory + 4; i < s->files; i++, p += FW_CFG_ENTRY) {
        st32be(p, s->item[FW_CFG_FIRST_FILE + i].size);
        st16be(p + 4, (uint16_t)(FW_CFG_FIRST_FILE + i));
        memcpy(p + 8, s->name[i], FW_CFG_NAME);
    }
    r = fw_cfg_add_key(e, FW_CFG_DIRECTORY, directory, size);
    emu_free(e, directory);
    return r;
}

EMU_PRIV int fw_cfg_add_file(struct emu *e, const char *name, const void *data, size_t size)
{
    struct fw_cfg *s = e->fw_cfg;
    unsigned i;
    int r;
    if (!s || strlen(name) >= FW_CFG_NAME)
        return EMU_ERANGE;
    for (i = 0; i < s->files && strcmp(s->name[i], name); i++)
        ;
    if (i == FW_CFG_FILES)
        return EMU_ENOSPC;
    r = fw_cfg_add_key(e, (uint16_t)(FW_CFG_FIRST_FILE + i), data, size);
    if (r)
        return r;
    if (i == s->files) {
        snprintf(s->name[i], FW_CFG_NAME, "%s", name);
        s->files++;
    }
    return fw_cfg_build_directory(s);
}

/* ---- reading ---- */

static void fw_cfg_select(struct fw_cfg *s, unsigned key)
{
    s->selected = (uint16_t)key;
    s->offset = 0;
}

static uint32_t fw_cfg_left(struct fw_cfg *s, const struct fw_cfg_item **item)
{
    *item = fw_cfg_item(s, s->selected);
    return *item && s->offset < (*item)->size ? (*item)->size - s->offset : 0;
}

static uint8_t fw_cfg_next(struct fw_cfg *s)
{
    const struct fw_cfg_item *item;
    return fw_cfg_left(s, &item) ? item->data[s->offset++] : 0;
}

static uint64_t fw_cfg_port_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)offset;
    (void)size;
    return fw_cfg_next(opaque);
}

static void fw_cfg_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    if (size == 2 && offset == 0)
        fw_cfg_select(opaque, (unsigned)value);
}

/* ---- DMA ---- */

/* false: there is no memory where it was to go. So a length of 4 GiB takes no longer than the guest's memory. */
static bool fw_cfg_dma_read(struct fw_cfg *s, uint64_t gpa, uint32_t length)
{
    static const uint8_t zeros[4096] = { 0 };
    while (length) {
        const struct fw_cfg_item *item;
        struct phys_page page;
        uint32_t left = fw_cfg_left(s, &item), n = EMU_MIN(length, (uint32_t)(sizeof zeros - gpa % sizeof zeros));
        mem_resolve(s->dev.emu, gpa, &page);
        if (!page.host)
            return false;
        if (left) {
            n = EMU_MIN(left, n);
            dma_write(s->dev.emu, gpa, item->data + s->offset, n);
            s->offset += n;
        } else {
            dma_write(s->dev.emu, gpa, zeros, n);
        }
        gpa += n;
        length -= n;
    }
    return true;
}

static void fw_cfg_dma_run(struct fw_cfg *s, uint64_t gpa)
{
    uint8_t request[FW_CFG_DMA_REQUEST], outcome[4];
    uint32_t control, length;
    const struct fw_cfg_item *item;
    bool failed = false;
    dma_read(s->dev.emu, gpa, request, sizeof request);
    control = ld32be(request);
    length = ld32be(request + 4);
    if (control & FW_CFG_DMA_SELECT)
        fw_cfg_select(s, control >> 16);
    if (control & FW_CFG_DMA_READ)
        failed = !fw_cfg_dma_read(s, ld64be(request + 8), length);
    else if (control & FW_CFG_DMA_WRITE) /* no item can be written */
        failed = true;
    else if (control & FW_CFG_DMA_SKIP)
        s->offset += EMU_MIN(length, fw_cfg_left(s, &item));
    st32be(outcome, failed ? FW_CFG_DMA_ERROR : 0);
    dma_write(s->dev.emu, gpa, outcome, sizeof outcome);
}

static uint64_t fw_cfg_dma_port_read(void *opaque, uint64_t offset, unsigned size)
{
    static const uint8_t signature[8] = { 'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G' };
    (void)opaque;
    return ldn_le(signature + offset, size);
}

static void fw_cfg_dma_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct fw_cfg *s = opaque;
    stn_le(s->dma_address + offset, value, size);
    if (offset + size == 8) { /* the low half starts it */
        uint64_t gpa = ld64be(s->dma_address);
        memset(s->dma_address, 0, sizeof s->dma_address);
        fw_cfg_dma_run(s, gpa);
    }
}

static const struct region_ops fw_cfg_port_ops = { fw_cfg_port_read, fw_cfg_port_write, 1, 2, true };
static const struct region_ops fw_cfg_dma_ops = { fw_cfg_dma_port_read, fw_cfg_dma_port_write, 4, 8, false };

/* ---- what every machine has ---- */

static int fw_cfg_add_le(struct emu *e, uint16_t key, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    stn_le(bytes, value, size);
    return fw_cfg_add_key(e, key, bytes, size);
}

static int fw_cfg_hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void fw_cfg_add_uuid(struct emu *e, const char *text)
{
    uint8_t uuid[16];
    unsigned n = 0;
    for (; text[0] && text[1] && n < 16; text++) {
        if (*text == '-')
            continue;
        if (fw_cfg_hex(text[0]) < 0 || fw_cfg_hex(text[1]) < 0)
            return;
        uuid[n++] = (uint8_t)(fw_cfg_hex(text[0]) << 4 | fw_cfg_hex(text[1]));
        text++;
    }
    if (n == 16)
        fw_cfg_add_key(e, FW_CFG_UUID, uuid, sizeof uuid);
}

/* RAM only, as QEMU's: firmware adds what it reserves. {base, length, type 1}, little-endian. */
static int fw_cfg_add_e820(struct emu *e)
{
    uint8_t table[40];
    uint64_t size = e->ram ? e->ram->size_bytes : 0, low = e->ram_below_4g;
    memset(table, 0, sizeof table);
    st64le(table + 8, low);
    st32le(table + 16, 1);
    if (size > low) {
        st64le(table + 20, UINT64_C(1) << 32);
        st64le(table + 28, size - low);
        st32le(table + 36, 1);
    }
    return fw_cfg_add_file(e, "etc/e820", table, size > low ? 40 : 20);
}

static int fw_cfg_add_standard(struct emu *e)
{
    static const uint8_t states[6] = { 128, 0, 0, 1, 130, 128 }; /* S3 not offered, S4 is sleep type 2 */
    const struct config *c = &e->config;
    unsigned cpus = c->cpus ? c->cpus : 1;
    uint8_t hpet[1 + 8 * 15], word[4];
    int r = fw_cfg_add_key(e, FW_CFG_SIGNATURE, "QEMU", 4);
    r = r ? r : fw_cfg_add_le(e, FW_CFG_ID, 3, 4); /* selector/data and DMA interfaces */
    r = r ? r : fw_cfg_add_le(e, FW_CFG_RAM_SIZE, e->ram ? e->ram->size_bytes : 0, 8);
    r = r ? r : fw_cfg_add_le(e, FW_CFG_NOGRAPHIC, c->vga && !strcmp(c->vga, "none"), 2);
    r = r ? r : fw_cfg_add_le(e, FW_CFG_CPUS, cpus, 2);
    r = r ? r : fw_cfg_add_le(e, FW_CFG_MAX_CPUS, cpus, 2);
    r = r ? r : fw_cfg_add_le(e, FW_CFG_BOOT_MENU, c->boot_menu, 2);
    r = r ? r : fw_cfg_add_le(e, FW_CFG_IRQ0_OVERRIDE, 1, 4);
    memset(hpet, 0, sizeof hpet);
    if (!c->no_hpet) { /* count; then {block id, address, minimum tick, page protection} each */
        hpet[0] = 1;
        st32le(hpet + 1, 0x8086A201);
        st64le(hpet + 5, 0xFED00000);
    }
    r = r ? r : fw_cfg_add_key(e, FW_CFG_HPET, hpet, sizeof hpet);
    if (c->uuid)
        fw_cfg_add_uuid(e, c->uuid);
    r = r ? r : fw_cfg_build_directory(e->fw_cfg);
    r = r ? r : fw_cfg_add_e820(e);
    r = r ? r : fw_cfg_add_file(e, "etc/system-states", states, sizeof states);
    st32le(word, UINT32_MAX);
    r = r ? r : fw_cfg_add_file(e, "etc/boot-fail-wait", word, 4); /* no reboot when nothing boots */
    if (c->boot_menu_timeout_ms) {
        st16le(word, (uint16_t)EMU_MIN(c->boot_menu_timeout_ms, 65535u));
        r = r ? r : fw_cfg_add_file(e, "etc/boot-menu-wait", word, 2);
    }
    return r;
}

/* -fw_cfg [name=]NAME,file=FILE|string=TEXT */
static int fw_cfg_add_line(struct emu *e, struct options *o, struct err *err)
{
    const char *name = options_get(o, "name"), *file = options_get(o, "file"), *text = options_get(o, "string");
    uint8_t *data = NULL;
    size_t size = 0;
    int r;
    if (!name || !*name || strlen(name) >= FW_CFG_NAME)
        return err_set(err, EMU_EINVAL, "%s: needs a name of 1 to %d characters", o->origin, FW_CFG_NAME - 1);
    if (!file == !text)
        return err_set(err, EMU_EINVAL, "%s: needs either file= or string=", o->origin);
    if (file && (r = host_file_load(file, &data, &size, FW_CFG_LIMIT, err)) < 0)
        return err_prefix(err, r, "%s", o->origin);
    r = file ? fw_cfg_add_file(e, name, data, size) : fw_cfg_add_file(e, name, text, strlen(text));
    free(data);
    if (r)
        return err_set(err, r, "%s: %s", o->origin, r == EMU_ENOSPC ? "too many files" : emu_strerror(r));
    return options_check_used(o, err);
}

/* ---- the device ---- */

static void fw_cfg_destroy(struct device *dev)
{
    struct fw_cfg *s = EMU_CONTAINER(dev, struct fw_cfg, dev);
    struct emu *e = dev->emu;
    unsigned i;
    region_remove(e, &e->ports, &s->ports);
    region_remove(e, &e->ports, &s->dma);
    for (i = 0; i < FW_CFG_ITEMS; i++)
        emu_free(e, s->item[i].data);
    for (i = 0; i < FW_CFG_ARCH_ITEMS; i++)
        emu_free(e, s->arch[i].data);
    memset(s->item, 0, sizeof s->item);
    memset(s->arch, 0, sizeof s->arch);
    e->fw_cfg = NULL;
}

static int fw_cfg_create(struct device *dev, struct options *opts, struct err *err)
{
    struct fw_cfg *s = EMU_CONTAINER(dev, struct fw_cfg, dev);
    struct emu *e = dev->emu;
    struct config_line *line;
    int r;
    (void)opts;
    e->fw_cfg = s;
    r = fw_cfg_add_standard(e);
    if (r)
        err_set(err, r, "out of memory");
    for (line = e->config.fw_cfg; line && !r; line = line->next)
        r = fw_cfg_add_line(e, &line->opts, err);
    if (r) {
        fw_cfg_destroy(dev);
        return r;
    }
    port_add(e, &s->ports, "fw_cfg", 0x510, 2, &fw_cfg_port_ops, s);
    return port_add(e, &s->dma, "fw_cfg-dma", 0x514, 8, &fw_cfg_dma_ops, s);
}

static void fw_cfg_reset(struct device *dev)
{
    struct fw_cfg *s = EMU_CONTAINER(dev, struct fw_cfg, dev);
    fw_cfg_select(s, 0);
    memset(s->dma_address, 0, sizeof s->dma_address);
}

EMU_PRIV const struct device_class fw_cfg_class = {
    .name = "fw_cfg", .bus = "isa", .help = "firmware configuration device", .instance_size = sizeof(struct fw_cfg),
    .create = fw_cfg_create, .reset = fw_cfg_reset, .destroy = fw_cfg_destroy,
};
#undef FW_CFG_LIMIT
