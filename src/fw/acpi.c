/* fw/acpi.c - ACPI tables, with the DSDT's byte code made by a small emitter.
 *
 * Models     ACPI 6.4: tables §5.2 (FADT revision 3, MADT 1), AML §20.2; IA-PC HPET 1.0a §3.2.4; 82371AB power management at 600h.
 * Contract   bios.c calls acpi_install() at power-on; for a foreign BIOS acpi_publish_fw_cfg() gives the same tables with loader commands.
 * Theory     acpi_build() lays all tables one behind the other in a buffer in which every pointer holds an offset from the buffer's start;
 *            a list remembers where pointers and checksums are. acpi_relocate() adds a base address and makes the sums right; the
 *            fw_cfg path turns the same lists into ADD_POINTER and ADD_CHECKSUM commands.
 *            AML: aml_begin() remembers a place, aml_end() inserts the package length there, once it is known.
 * Invariants 1. No table is changed after its checksum but by acpi_relocate().
 *            2. What the DSDT says of interrupts agrees with pcisetup_irq() and with dev/piix3.c's routing registers.
 * Missing    S3 and S4 (the chipset stays awake), hot plug of CPUs, memory and PCI cards.
 */
#include "../machine.h"
#include "fw.h"

enum { ACPI_PM_BASE = 0x600, ACPI_SMB_BASE = 0x700, ACPI_GPE_BASE = 0xAFE0, ACPI_SCI = 9 };

/* ================= AML ================= */

struct aml {
    struct buf *b;
    size_t open[12]; /* where the package length of each open object goes */
    unsigned depth;
};

static void aml_byte(struct aml *a, unsigned v)
{
    uint8_t b = (uint8_t)v;
    buf_add(a->b, &b, 1);
}
static void aml_bytes(struct aml *a, const void *p, size_t n) { buf_add(a->b, p, n); }
/* A path with \ and . as written in ASL; segments of up to four characters. */
static void aml_name(struct aml *a, const char *path)
{
    const char *p;
    unsigned segments = 1, i;
    for (; *path == '\\' || *path == '^'; path++)
        aml_byte(a, (uint8_t)*path);
    if (!*path) {
        aml_byte(a, 0);
        return;
    }
    for (p = path; *p; p++)
        segments += *p == '.';
    if (segments == 2)
        aml_byte(a, 0x2E);
    else if (segments > 2)
        aml_byte(a, 0x2F), aml_byte(a, segments);
    while (*path) {
        for (i = 0; i < 4; i++)
            aml_byte(a, *path && *path != '.' ? (uint8_t)*path++ : '_');
        if (*path == '.')
            path++;
    }
}
static void aml_int(struct aml *a, uint64_t v)
{
    uint8_t b[9];
    if (v <= 1) {
        aml_byte(a, (unsigned)v);
        return;
    }
    st64le(b + 1, v);
    b[0] = v < 0x100 ? 0x0A : v < 0x10000 ? 0x0B : v >> 32 ? 0x0E : 0x0C;
    aml_bytes(a, b, v < 0x100 ? 2 : v < 0x10000 ? 3 : v >> 32 ? 9 : 5);
}
static void aml_string(struct aml *a, const char *s)
{
    aml_byte(a, 0x0D);
    aml_bytes(a, s, strlen(s) + 1);
}
/* Compressed EISA id: ACPI §19.3.4, three letters and four hex digits. */
static void aml_eisaid(struct aml *a, const char *id)
{
    unsigned letters = (unsigned)(id[0] - 0x40) << 10 | (unsigned)(id[1] - 0x40) << 5 | (unsigned)(id[2] - 0x40), product = 0, i;
    uint8_t b[5];
    for (i = 3; i < 7; i++)
        product = product << 4 | (unsigned)(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10);
    b[0] = 0x0C;
    st16be(b + 1, (uint16_t)letters);
    st16be(b + 3, (uint16_t)product);
    aml_bytes(a, b, 5);
}

static void aml_begin(struct aml *a, unsigned opcode)
{
    if (opcode > 0xFF)
        aml_byte(a, opcode >> 8);
    aml_byte(a, opcode);
    if (a->depth < EMU_ARRAY_LEN(a->open))
        a->open[a->depth++] = a->b->size;
}
/* PkgLength counts itself: ACPI §20.2.4. */
static void aml_end(struct aml *a)
{
    size_t at = a->open[--a->depth], body = a->b->size - at, n, len;
    uint8_t b[4];
    static const uint8_t zero[4] = { 0, 0, 0, 0 };
    n = body + 1 < 0x40 ? 1 : body + 2 < 0x1000 ? 2 : body + 3 < 0x100000 ? 3 : 4;
    len = body + n;
    if (n == 1)
        b[0] = (uint8_t)len;
    else {
        b[0] = (uint8_t)((n - 1) << 6 | (len & 15));
        b[1] = (uint8_t)(len >> 4);
        b[2] = (uint8_t)(len >> 12);
        b[3] = (uint8_t)(len >> 20);
    }
    buf_add(a->b, zero, n);
    if (a->b->failed)
        return;
    memmove(a->b->data + at + n, a->b->data + at, body);
    memcpy(a->b->data + at, b, n);
}
enum { AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_METHOD = 0x14, AML_NAME = 0x08, AML_IF = 0xA0, AML_ELSE = 0xA1, AML_DEVICE = 0x5B82, AML_FIELD = 0x5B81,
       AML_REGION = 0x5B80, AML_PROCESSOR = 0x5B83, AML_STORE = 0x70, AML_AND = 0x7B, AML_OR = 0x7D, AML_RETURN = 0xA4, AML_CREATE_DWORD = 0x8A, AML_LESS = 0x95,
       AML_LOCAL0 = 0x60, AML_ARG0 = 0x68 };

static void aml_device(struct aml *a, const char *name)
{
    aml_begin(a, AML_DEVICE);
    aml_name(a, name);
}
static void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
    aml_byte(a, AML_NAME);
    aml_name(a, name);
    aml_int(a, v);
}
static void aml_hid(struct aml *a, const char *id)
{
    aml_byte(a, AML_NAME);
    aml_name(a, "_HID");
    aml_eisaid(a, id);
}
static void aml_method(struct aml *a, const char *name, unsigned args)
{
    aml_begin(a, AML_METHOD);
    aml_name(a, name);
    aml_byte(a, args);
}

/* ---- resource templates: ACPI §6.4; gathered in a small buffer, then emitted as Buffer ---- */
struct aml_res {
    uint8_t bytes[512];
    size_t size;
};
static void res_add(struct aml_res *r, const uint8_t *b, size_t n)
{
    if (r->size + n <= sizeof r->bytes) {
        memcpy(r->bytes + r->size, b, n);
        r->size += n;
    }
}
static void res_io(struct aml_res *r, unsigned base, unsigned align, unsigned length)
{
    uint8_t b[8] = { 0x47, 0x01 };
    st16le(b + 2, (uint16_t)base);
    st16le(b + 4, (uint16_t)base);
    b[6] = (uint8_t)align;
    b[7] = (uint8_t)length;
    res_add(r, b, 8);
}
static void res_irq(struct aml_res *r, unsigned irq)
{
    uint8_t b[3] = { 0x22 };
    st16le(b + 1, (uint16_t)(1u << irq));
    res_add(r, b, 3);
}
static void res_dma(struct aml_res *r, unsigned channel)
{
    uint8_t b[3] = { 0x2A, 0, 0 };
    b[1] = (uint8_t)(1u << channel);
    res_add(r, b, 3);
}
static void res_memory32(struct aml_res *r, uint32_t base, uint32_t size, bool writable)
{
    uint8_t b[12] = { 0x86, 9, 0 };
    b[3] = writable;
    st32le(b + 4, base);
    st32le(b + 8, size);
    res_add(r, b, 12);
}
/* Extended interrupt, consumer, level, active high, shared. */
static void res_interrupts(struct aml_res *r, const uint8_t *irqs, unsigned n)
{
    uint8_t b[5 + 4 * 4];
    unsigned i;
    b[0] = 0x89;
    st16le(b + 1, (uint16_t)(2 + 4 * n));
    b[3] = 0x09;
    b[4] = (uint8_t)n;
    for (i = 0; i < n; i++)
        st32le(b + 5 + 4 * i, irqs[i]);
    res_add(r, b, 5 + 4 * (size_t)n);
}
/* Address space descriptor, producer, fixed bounds. type: 0 memory, 1 I/O, 2 bus; wide: 4-byte fields. */
static void res_window(struct aml_res *r, unsigned type, bool wide, uint32_t from, uint32_t to)
{
    uint8_t b[26];
    unsigned w = wide ? 4 : 2;
    memset(b, 0, sizeof b);
    b[0] = wide ? 0x87 : 0x88;
    st16le(b + 1, (uint16_t)(3 + 5 * w));
    b[3] = (uint8_t)type;
    b[4] = 0x0C; /* min and max fixed, positive decode */
    b[5] = type == 0 ? 0x03 : type == 1 ? 0x03 : 0; /* memory: cacheable read-write; I/O: entire range */
    if (type == 0)
        b[5] = 0x01; /* non-cacheable, read-write */
    stn_le(b + 6 + w, from, w);
    stn_le(b + 6 + 2 * w, to, w);
    stn_le(b + 6 + 4 * w, (uint64_t)to - from + 1, w);
    res_add(r, b, 6 + 5 * (size_t)w);
}
static void aml_resources(struct aml *a, const char *name, struct aml_res *r)
{
    static const uint8_t end[2] = { 0x79, 0 };
    res_add(r, end, 2);
    aml_byte(a, AML_NAME);
    aml_name(a, name);
    aml_begin(a, AML_BUFFER);
    aml_int(a, r->size);
    aml_bytes(a, r->bytes, r->size);
    aml_end(a);
    r->size = 0;
}

/* ================= the DSDT's contents ================= */

static void dsdt_isa_device(struct aml *a, struct aml_res *r, const char *name, const char *hid, unsigned uid)
{
    aml_device(a, name);
    aml_hid(a, hid);
    if (uid)
        aml_name_int(a, "_UID", uid);
    aml_name_int(a, "_STA", 0x0F);
    aml_resources(a, "_CRS", r);
    aml_end(a);
}

static void dsdt_isa(struct aml *a, struct emu *e)
{
    static const uint16_t com[] = { 0x3F8, 0x2F8, 0x3E8, 0x2E8 }, lpt[] = { 0x378, 0x278, 0x3BC };
    static const uint8_t com_irq[] = { 4, 3, 4, 3 };
    struct aml_res r;
    unsigned i;
    char name[5];
    r.size = 0;
    aml_device(a, "ISA");
    aml_name_int(a, "_ADR", 0x00010000);
    aml_byte(a, AML_REGION >> 8), aml_byte(a, AML_REGION & 0xFF);
    aml_name(a, "PIRR");
    aml_byte(a, 2); /* PCI_Config */
    aml_int(a, 0x60);
    aml_int(a, 4);
    aml_begin(a, AML_FIELD);
    aml_name(a, "PIRR");
    aml_byte(a, 1); /* byte access */
    for (i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "PRQ%c", "ABCD"[i]);
        aml_name(a, name);
        aml_byte(a, 8);
    }
    aml_end(a);

    res_io(&r, 0x70, 1, 2), res_irq(&r, 8);
    dsdt_isa_device(a, &r, "RTC", "PNP0B00", 0);
    res_io(&r, 0x60, 1, 1), res_io(&r, 0x64, 1, 1), res_irq(&r, 1);
    dsdt_isa_device(a, &r, "KBD", "PNP0303", 0);
    res_irq(&r, 12);
    dsdt_isa_device(a, &r, "MOU", "PNP0F13", 0);
    if (device_find(e, "isa-fdc")) {
        res_io(&r, 0x3F2, 1, 4), res_io(&r, 0x3F7, 1, 1), res_irq(&r, 6), res_dma(&r, 2);
        dsdt_isa_device(a, &r, "FDC0", "PNP0700", 0);
    }
    for (i = 0; i < 4; i++) {
        if (port_read(e, (uint16_t)(com[i] + 1u), 1) == 0xFF) /* interrupt enable has only four bits where a UART is */
            continue;
        res_io(&r, com[i], 1, 8), res_irq(&r, com_irq[i]);
        snprintf(name, sizeof name, "COM%u", i + 1);
        dsdt_isa_device(a, &r, name, "PNP0501", i + 1);
    }
    for (i = 0; i < 3; i++) {
        if (port_read(e, (uint16_t)(lpt[i] + 2u), 1) == 0xFF)
            continue;
        res_io(&r, lpt[i], 8, 8), res_irq(&r, i ? 5 : 7);
        snprintf(name, sizeof name, "LPT%u", i + 1);
        dsdt_isa_device(a, &r, name, "PNP0400", i + 1);
    }
    aml_end(a);
}

/* PCI interrupt router: one link device for each PIRQ register, and one fixed at the SCI for function 1.3. */
static void dsdt_links(struct aml *a)
{
    static const uint8_t choices[3] = { 5, 10, 11 }, sci[1] = { ACPI_SCI }, none[1] = { 0 };
    struct aml_res r;
    char link[5], reg[32];
    unsigned i;
    r.size = 0;
    for (i = 0; i < 4; i++) {
        snprintf(link, sizeof link, "LNK%c", "ABCD"[i]);
        snprintf(reg, sizeof reg, "\\_SB.PCI0.ISA.PRQ%c", "ABCD"[i]);
        aml_device(a, link);
        aml_hid(a, "PNP0C0F");
        aml_name_int(a, "_UID", i);
        res_interrupts(&r, choices, 3);
        aml_resources(a, "_PRS", &r);
        aml_method(a, "_STA", 0); /* If (PRQx & 0x80) { Return (9) } Return (0x0B) */
        aml_begin(a, AML_IF);
        aml_byte(a, AML_AND), aml_name(a, reg), aml_int(a, 0x80), aml_byte(a, 0);
        aml_byte(a, AML_RETURN), aml_int(a, 0x09);
        aml_end(a);
        aml_byte(a, AML_RETURN), aml_int(a, 0x0B);
        aml_end(a);
        aml_method(a, "_DIS", 0); /* PRQx |= 0x80 */
        aml_byte(a, AML_OR), aml_name(a, reg), aml_int(a, 0x80), aml_name(a, reg);
        aml_end(a);
        aml_method(a, "_CRS", 8); /* serialized, as it makes names */
        res_interrupts(&r, none, 1);
        aml_resources(a, "BUF0", &r);
        aml_byte(a, AML_CREATE_DWORD), aml_name(a, "BUF0"), aml_int(a, 5), aml_name(a, "IRQN");
        aml_begin(a, AML_IF); /* If (PRQx < 0x80) { IRQN = PRQx & 15 } */
        aml_byte(a, AML_LESS), aml_name(a, reg), aml_int(a, 0x80);
        aml_byte(a, AML_AND), aml_name(a, reg), aml_int(a, 15), aml_name(a, "IRQN");
        aml_end(a);
        aml_byte(a, AML_RETURN), aml_name(a, "BUF0");
        aml_end(a);
        aml_method(a, "_SRS", 1 | 8);
        aml_byte(a, AML_CREATE_DWORD), aml_byte(a, AML_ARG0), aml_int(a, 5), aml_name(a, "IRQN");
        aml_byte(a, AML_STORE), aml_name(a, "IRQN"), aml_name(a, reg);
        aml_end(a);
        aml_end(a);
    }
    aml_device(a, "LNKS");
    aml_hid(a, "PNP0C0F");
    aml_name_int(a, "_UID", 4);
    aml_name_int(a, "_STA", 0x0B);
    res_interrupts(&r, sci, 1);
    aml_resources(a, "_PRS", &r);
    res_interrupts(&r, sci, 1);
    aml_resources(a, "_CRS", &r);
    aml_method(a, "_DIS", 0);
    aml_end(a);
    aml_method(a, "_SRS", 1);
    aml_end(a);
    aml_end(a);
}

static void dsdt_prt(struct aml *a)
{
    unsigned slot, pin;
    aml_byte(a, AML_NAME);
    aml_name(a, "_PRT");
    aml_begin(a, AML_PACKAGE);
    aml_byte(a, 31 * 4);
    for (slot = 1; slot < 32; slot++)
        for (pin = 0; pin < 4; pin++) {
            char link[16];
            snprintf(link, sizeof link, "LNK%c", slot == 1 && pin == 0 ? 'S' : "ABCD"[(slot - 1 + pin) & 3]);
            aml_begin(a, AML_PACKAGE);
            aml_byte(a, 4);
            aml_int(a, (uint64_t)slot << 16 | 0xFFFF);
            aml_int(a, pin);
            aml_name(a, link);
            aml_int(a, 0);
            aml_end(a);
        }
    aml_end(a);
}

static void dsdt_pci(struct aml *a, struct emu *e)
{
    struct aml_res r;
    uint32_t hole = (uint32_t)EMU_MAX(e->ram_below_4g, UINT64_C(0x40000000));
    r.size = 0;
    aml_device(a, "PCI0");
    aml_hid(a, "PNP0A03");
    aml_name_int(a, "_UID", 0);
    aml_name_int(a, "_BBN", 0);
    res_window(&r, 2, false, 0, 0xFF);
    res_io(&r, 0xCF8, 1, 8);
    res_window(&r, 1, false, 0x0000, 0x0CF7);
    res_window(&r, 1, false, 0x0D00, 0xFFFF);
    res_window(&r, 0, true, 0xA0000, 0xBFFFF);
    res_window(&r, 0, true, hole, 0xFEBFFFFF);
    aml_resources(a, "_CRS", &r);
    dsdt_prt(a);
    dsdt_isa(a, e);
    /* ports that belong to no other device: power management, firmware's own, reset and A20 */
    res_io(&r, 0x92, 1, 1), res_io(&r, 0xB2, 1, 2), res_io(&r, 0x4D0, 1, 2), res_io(&r, 0x402, 1, 1), res_io(&r, 0x510, 1, 12);
    res_io(&r, ACPI_PM_BASE, 1, 0x40), res_io(&r, ACPI_SMB_BASE, 1, 0x10), res_io(&r, FW_PORT_BASE, 1, 0x10), res_io(&r, ACPI_GPE_BASE, 1, 4);
    aml_device(a, "MBRD");
    aml_hid(a, "PNP0C02");
    aml_name_int(a, "_UID", 1);
    aml_resources(a, "_CRS", &r);
    aml_end(a);
    aml_end(a);
}

static void dsdt_sleep_state(struct aml *a, const char *name, unsigned type)
{
    unsigned i;
    aml_byte(a, AML_NAME);
    aml_name(a, name);
    aml_begin(a, AML_PACKAGE);
    aml_byte(a, 4);
    aml_int(a, type), aml_int(a, type);
    for (i = 0; i < 2; i++)
        aml_int(a, 0);
    aml_end(a);
}

static void dsdt_build(struct aml *a, struct emu *e)
{
    struct aml_res r;
    unsigned i;
    r.size = 0;
    aml_begin(a, AML_SCOPE);
    aml_name(a, "\\_SB");
    dsdt_pci(a, e);
    dsdt_links(a);
    if (device_find(e, "hpet")) {
        aml_device(a, "HPET");
        aml_hid(a, "PNP0103");
        aml_name_int(a, "_UID", 0);
        aml_name_int(a, "_STA", 0x0F);
        res_memory32(&r, 0xFED00000u, 0x400, false);
        aml_resources(a, "_CRS", &r);
        aml_end(a);
    }
    for (i = 0; i < EMU_MIN(e->config.cpus ? e->config.cpus : 1u, 255u); i++) {
        char name[5];
        snprintf(name, sizeof name, "C%03X", i & 0xFFF);
        aml_begin(a, AML_PROCESSOR);
        aml_name(a, name);
        aml_byte(a, i);
        aml_bytes(a, "\0\0\0\0", 5); /* no processor block: address, length */
        aml_end(a);
    }
    aml_end(a);
    dsdt_sleep_state(a, "\\_S5", 0);
    aml_begin(a, AML_SCOPE); /* no general purpose event does anything, but the block is there */
    aml_name(a, "\\_GPE");
    aml_byte(a, AML_NAME);
    aml_name(a, "_HID");
    aml_string(a, "ACPI0006");
    aml_end(a);
}

/* ================= tables ================= */

static uint32_t table_begin(struct acpi_blob *b, const char *signature, unsigned revision)
{
    static const uint8_t zero[64] = { 0 };
    uint8_t h[36];
    uint32_t at;
    if (b->data.size % 16)
        buf_add(&b->data, zero, 16 - b->data.size % 16);
    at = (uint32_t)b->data.size;
    memset(h, 0, sizeof h);
    memcpy(h, signature, 4);
    h[8] = (uint8_t)revision;
    memcpy(h + 10, "EMU   ", 6);
    memcpy(h + 16, "EMUPC   ", 8);
    st32le(h + 24, 1);
    memcpy(h + 28, "EMU ", 4);
    st32le(h + 32, 1);
    buf_add(&b->data, h, sizeof h);
    return at;
}
static void table_end(struct acpi_blob *b, uint32_t at)
{
    struct acpi_checksum *c = &b->checksums[b->checksum_count++];
    if (b->data.failed)
        return;
    st32le(b->data.data + at + 4, (uint32_t)b->data.size - at);
    c->start = at;
    c->size = (uint32_t)b->data.size - at;
    c->field = at + 9;
}
/* Stores an offset and notes that it is to become an address. */
static void table_pointer(struct acpi_blob *b, uint32_t field, unsigned size, uint32_t target)
{
    if (b->data.failed)
        return;
    stn_le(b->data.data + field, target, size);
    b->pointers[b->pointer_count].offset = field;
    b->pointers[b->pointer_count++].size = (uint8_t)size;
}

static void fadt_gas(uint8_t *p, unsigned bits, unsigned access, unsigned port)
{
    p[0] = 1; /* system I/O */
    p[1] = (uint8_t)bits;
    p[3] = (uint8_t)access;
    st64le(p + 4, port);
}

static void acpi_build_fadt(struct acpi_blob *b)
{
    uint8_t t[244];
    memset(t, 0, sizeof t);
    b->fadt = table_begin(b, "FACP", 3);
    t[44] = 1;
    t[45] = 0; /* preferred profile: unspecified */
    st16le(t + 46, ACPI_SCI);
    st32le(t + 48, 0xB2);  /* SMI_CMD, with the chipset's own commands (dev/acpi_pm.c) */
    t[52] = 0xF1, t[53] = 0xF0;
    st32le(t + 56, ACPI_PM_BASE);
    st32le(t + 64, ACPI_PM_BASE + 4);
    st32le(t + 76, ACPI_PM_BASE + 8);
    st32le(t + 80, ACPI_GPE_BASE);
    t[88] = 4, t[89] = 2, t[91] = 4, t[92] = 4;
    st16le(t + 96, 0x0FFF), st16le(t + 98, 0x0FFF); /* C2, C3: none */
    t[108] = 0x32;                                  /* century in CMOS */
    st16le(t + 109, 0x0003);                        /* ISA devices, 8042 */
    st32le(t + 112, 1 << 0 | 1 << 2 | 1 << 5 | 1 << 10 | 1 << 15); /* WBINVD, C1, no fixed sleep button, reset register, platform clock */
    fadt_gas(t + 116, 8, 1, 0xCF9);
    t[128] = 0x06; /* full reset */
    fadt_gas(t + 148, 32, 2, ACPI_PM_BASE);
    fadt_gas(t + 172, 16, 2, ACPI_PM_BASE + 4);
    fadt_gas(t + 208, 32, 3, ACPI_PM_BASE + 8);
    fadt_gas(t + 220, 32, 1, ACPI_GPE_BASE);
    buf_add(&b->data, t + 36, sizeof t - 36);
    table_pointer(b, b->fadt + 36, 4, b->facs);
    table_pointer(b, b->fadt + 40, 4, b->dsdt);
    table_pointer(b, b->fadt + 132, 8, b->facs);
    table_pointer(b, b->fadt + 140, 8, b->dsdt);
    table_end(b, b->fadt);
}

static void acpi_build_madt(struct emu *e, struct acpi_blob *b)
{
    static const struct { uint8_t irq, gsi, flags; } overrides[] = { { 0, 2, 0 }, { 5, 5, 0x0D }, { 9, 9, 0x0D }, { 10, 10, 0x0D }, { 11, 11, 0x0D } };
    uint8_t t[12];
    unsigned i;
    b->madt = table_begin(b, "APIC", 1);
    st32le(t, 0xFEE00000u);
    st32le(t + 4, 1); /* 8259s are there */
    buf_add(&b->data, t, 8);
    for (i = 0; i < EMU_MIN(e->config.cpus ? e->config.cpus : 1u, 255u); i++) {
        memset(t, 0, sizeof t);
        t[0] = 0, t[1] = 8, t[2] = t[3] = (uint8_t)i, t[4] = 1;
        buf_add(&b->data, t, 8);
    }
    memset(t, 0, sizeof t);
    t[0] = 1, t[1] = 12;
    st32le(t + 4, 0xFEC00000u);
    buf_add(&b->data, t, 12);
    for (i = 0; i < EMU_ARRAY_LEN(overrides); i++) {
        memset(t, 0, sizeof t);
        t[0] = 2, t[1] = 10, t[3] = overrides[i].irq, t[4] = overrides[i].gsi, t[8] = overrides[i].flags;
        buf_add(&b->data, t, 10);
    }
    memset(t, 0, sizeof t);
    t[0] = 4, t[1] = 6, t[2] = 0xFF, t[5] = 1; /* NMI on LINT1 of all */
    buf_add(&b->data, t, 6);
    table_end(b, b->madt);
}

static void acpi_build_hpet(struct emu *e, struct acpi_blob *b)
{
    uint8_t t[20];
    if (!device_find(e, "hpet"))
        return;
    b->hpet = table_begin(b, "HPET", 1);
    memset(t, 0, sizeof t);
    st32le(t, 0x8086A201u); /* Intel, legacy replacement, 64 bits, three timers, revision 1 */
    t[5] = 0;               /* memory space */
    st64le(t + 8, 0xFED00000u);
    buf_add(&b->data, t, sizeof t);
    table_end(b, b->hpet);
}

EMU_PRIV int acpi_build(struct emu *e, struct acpi_blob *b)
{
    static const uint8_t zero[64] = { 0 };
    struct aml a;
    uint32_t list[3];
    uint8_t facs[64];
    unsigned n = 0, i;
    memset(b, 0, sizeof *b);
    buf_init(&b->data, e);
    memset(facs, 0, sizeof facs);
    memcpy(facs, "FACS", 4);
    st32le(facs + 4, sizeof facs);
    facs[32] = 1;
    b->facs = 0; /* first: 64-byte alignment */
    buf_add(&b->data, facs, sizeof facs);
    b->dsdt = table_begin(b, "DSDT", 2);
    memset(&a, 0, sizeof a);
    a.b = &b->data;
    dsdt_build(&a, e);
    table_end(b, b->dsdt);
    acpi_build_fadt(b);
    acpi_build_madt(e, b);
    acpi_build_hpet(e, b);
    list[n++] = b->fadt;
    list[n++] = b->madt;
    if (b->hpet)
        list[n++] = b->hpet;
    b->rsdt = table_begin(b, "RSDT", 1);
    buf_add(&b->data, zero, 4 * (size_t)n);
    for (i = 0; i < n; i++)
        table_pointer(b, b->rsdt + 36 + 4 * i, 4, list[i]);
    table_end(b, b->rsdt);
    b->xsdt = table_begin(b, "XSDT", 1);
    buf_add(&b->data, zero, 8 * (size_t)n);
    for (i = 0; i < n; i++)
        table_pointer(b, b->xsdt + 36 + 8 * i, 8, list[i]);
    table_end(b, b->xsdt);
    if (!b->data.failed)
        return 0;
    acpi_blob_free(b);
    return EMU_ENOMEM;
}

EMU_PRIV void acpi_blob_free(struct acpi_blob *b) { buf_free(&b->data); }

EMU_PRIV void acpi_relocate(struct acpi_blob *b, uint64_t base)
{
    unsigned i;
    for (i = 0; i < b->pointer_count; i++) {
        uint8_t *p = b->data.data + b->pointers[i].offset;
        stn_le(p, ldn_le(p, b->pointers[i].size) + base, b->pointers[i].size);
    }
    for (i = 0; i < b->checksum_count; i++) {
        uint8_t *p = b->data.data;
        p[b->checksums[i].field] = 0;
        p[b->checksums[i].field] = fw_checksum(p + b->checksums[i].start, b->checksums[i].size);
    }
}

EMU_PRIV void acpi_rsdp(uint8_t out[36], uint64_t rsdt_gpa, uint64_t xsdt_gpa)
{
    memset(out, 0, 36);
    memcpy(out, "RSD PTR ", 8);
    memcpy(out + 9, "EMU   ", 6);
    out[15] = 2;
    st32le(out + 16, (uint32_t)rsdt_gpa);
    st32le(out + 20, 36);
    st64le(out + 24, xsdt_gpa);
    out[8] = fw_checksum(out, 20);
    out[32] = fw_checksum(out, 36);
}

EMU_PRIV int acpi_install(struct fw *fw)
{
    struct acpi_blob b;
    uint8_t rsdp[36];
    uint64_t base = fw->tables_high;
    int rc = acpi_build(fw->emu, &b);
    if (rc)
        return rc;
    acpi_relocate(&b, base);
    mem_write(fw->emu, base, b.data.data, b.data.size);
    acpi_rsdp(rsdp, base + b.rsdt, base + b.xsdt);
    fw->rsdp_gpa = fw_table_low(fw, rsdp, sizeof rsdp, 16);
    acpi_blob_free(&b);
    return fw->rsdp_gpa ? 0 : EMU_ENOSPC;
}

/* ================= for a foreign BIOS: QEMU docs/specs, table loader ================= */

enum { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER = 2, LOADER_ADD_CHECKSUM = 3, LOADER_ENTRY_BYTES = 128, LOADER_NAME_BYTES = 56, LOADER_ZONE_HIGH = 1, LOADER_ZONE_FSEG = 2 };
#define LOADER_TABLES "etc/acpi/tables"
#define LOADER_RSDP "etc/acpi/rsdp"

static void loader_command(struct buf *out, uint32_t command, const char *file, const char *file2, uint32_t a, uint32_t b, uint32_t c)
{
    uint8_t e[LOADER_ENTRY_BYTES];
    memset(e, 0, sizeof e);
    st32le(e, command);
    memcpy(e + 4, file, strlen(file));
    switch (command) {
    case LOADER_ALLOCATE: /* alignment, zone */
        st32le(e + 60, a);
        e[64] = (uint8_t)b;
        break;
    case LOADER_ADD_POINTER: /* offset in file of a pointer to file2, its size */
        memcpy(e + 60, file2, strlen(file2));
        st32le(e + 60 + LOADER_NAME_BYTES, a);
        e[60 + LOADER_NAME_BYTES + 4] = (uint8_t)b;
        break;
    default: /* field, start, length */
        st32le(e + 60, a);
        st32le(e + 64, b);
        st32le(e + 68, c);
        break;
    }
    buf_add(out, e, sizeof e);
}

EMU_PRIV int acpi_publish_fw_cfg(struct emu *e)
{
    struct acpi_blob b;
    struct buf commands;
    uint8_t rsdp[36];
    unsigned i;
    int rc = acpi_build(e, &b);
    if (rc)
        return rc;
    buf_init(&commands, e);
    acpi_rsdp(rsdp, b.rsdt, b.xsdt);
    rsdp[8] = rsdp[32] = 0;
    loader_command(&commands, LOADER_ALLOCATE, LOADER_RSDP, NULL, 16, LOADER_ZONE_FSEG, 0);
    loader_command(&commands, LOADER_ALLOCATE, LOADER_TABLES, NULL, 64, LOADER_ZONE_HIGH, 0);
    for (i = 0; i < b.pointer_count; i++)
        loader_command(&commands, LOADER_ADD_POINTER, LOADER_TABLES, LOADER_TABLES, b.pointers[i].offset, b.pointers[i].size, 0);
    for (i = 0; i < b.checksum_count; i++)
        loader_command(&commands, LOADER_ADD_CHECKSUM, LOADER_TABLES, NULL, b.checksums[i].field, b.checksums[i].start, b.checksums[i].size);
    loader_command(&commands, LOADER_ADD_POINTER, LOADER_RSDP, LOADER_TABLES, 16, 4, 0);
    loader_command(&commands, LOADER_ADD_POINTER, LOADER_RSDP, LOADER_TABLES, 24, 8, 0);
    loader_command(&commands, LOADER_ADD_CHECKSUM, LOADER_RSDP, NULL, 8, 0, 20);
    loader_command(&commands, LOADER_ADD_CHECKSUM, LOADER_RSDP, NULL, 32, 0, 36);
    rc = commands.failed ? EMU_ENOMEM : fw_cfg_add_file(e, LOADER_RSDP, rsdp, sizeof rsdp);
    rc = rc ? rc : fw_cfg_add_file(e, LOADER_TABLES, b.data.data, b.data.size);
    rc = rc ? rc : fw_cfg_add_file(e, "etc/table-loader", commands.data, commands.size);
    buf_free(&commands);
    acpi_blob_free(&b);
    return rc;
}
#undef LOADER_TABLES
#undef LOADER_RSDP
