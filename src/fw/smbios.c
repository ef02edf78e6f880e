/* fw/smbios.c - SMBIOS tables.
 *
 * Models     DMTF DSP0134 System Management BIOS 2.8: entry point §5.2.1, structures 0, 1, 3, 4, 16, 17, 19, 32, 127.
 * Contract   bios.c calls smbios_install() at power-on; a foreign BIOS gets the same tables through fw_cfg (smbios_publish_fw_cfg).
 * Theory     Structures are appended to a buffer one by one; strings are gathered beside the structure and follow it. -smbios type=0
 *            and type=1 lines replace strings; -uuid sets the UUID.
 * Missing    -smbios file=, types 2, 11 and 41 by option (the line is refused by the option parser's owner, not here).
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "fw.h"

struct smbios {
    struct emu *emu;
    struct buf *out;
    uint8_t body[64];
    unsigned size;
    char strings[512];
    size_t strings_size;
    unsigned string_count, structure_count, largest;
    uint16_t handle;
};

static void smbios_begin(struct smbios *s, unsigned type, uint16_t handle, unsigned size)
{
    memset(s->body, 0, sizeof s->body);
    s->body[0] = (uint8_t)type;
    s->body[1] = (uint8_t)size;
    st16le(s->body + 2, handle);
    s->size = size;
    s->strings_size = 0;
    s->string_count = 0;
}
static void smbios_string(struct smbios *s, unsigned offset, const char *text)
{
    size_t n = strlen(text) + 1;
    if (n == 1 || s->strings_size + n > sizeof s->strings)
        return;
    memcpy(s->strings + s->strings_size, text, n);
    s->strings_size += n;
    s->body[offset] = (uint8_t)++s->string_count;
}
static void smbios_end(struct smbios *s)
{
    static const uint8_t zero[2] = { 0, 0 };
    size_t before = s->out->size;
    buf_add(s->out, s->body, s->size);
    buf_add(s->out, s->strings, s->strings_size);
    buf_add(s->out, zero, s->strings_size ? 1 : 2);
    s->structure_count++;
    s->largest = (unsigned)EMU_MAX((size_t)s->largest, s->out->size - before);
}

static const char *smbios_option(struct emu *e, const char *type, const char *key, const char *otherwise)
{
    struct config_line *line;
    for (line = e->config.smbios; line; line = line->next) {
        const char *t = options_get(&line->opts, "type"), *v = options_get(&line->opts, key);
        if (t && v && !strcmp(t, type))
            otherwise = v;
    }
    return otherwise;
}

/* RFC 4122 text to the byte order of SMBIOS 2.6: the first three fields little-endian. */
static bool smbios_uuid(const char *text, uint8_t out[16])
{
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    unsigned n = 0, v = 0;
    for (; *text && n < 32; text++) {
        int c = *text, d;
        if (c == '-')
            continue;
        d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0)
            return false;
        v = v << 4 | (unsigned)d;
        if (n++ % 2)
            out[order[n / 2 - 1]] = (uint8_t)v;
        v &= n % 2 ? 15 : 0;
    }
    return n == 32 && !*text;
}

static void smbios_memory(struct smbios *s)
{
    struct emu *e = s->emu;
    uint64_t mib = e->config.ram_bytes / MIB, done = 0, size;
    unsigned n = (unsigned)EMU_MIN((mib + 16383) / 16384, (uint64_t)32), i;
    if (!n)
        n = 1;
    smbios_begin(s, 16, 0x1000, 23);
    s->body[4] = 1, s->body[5] = 3, s->body[6] = 6; /* system board, system memory, multi-bit ECC */
    st32le(s->body + 7, mib < 0x200000 ? (uint32_t)(mib * 1024) : 0x80000000u);
    if (mib >= 0x200000)
        st64le(s->body + 15, mib * MIB);
    st16le(s->body + 11, 0xFFFE);
    st16le(s->body + 13, (uint16_t)n);
    smbios_end(s);
    for (i = 0; i < n; i++, done += size) {
        char name[16];
        size = i + 1 < n ? 16384 : mib - done;
        smbios_begin(s, 17, (uint16_t)(0x1100 + i), 40);
        st16le(s->body + 4, 0x1000);
        st16le(s->body + 6, 0xFFFE);
        st16le(s->body + 8, 0xFFFF), st16le(s->body + 10, 0xFFFF); /* widths unknown */
        st16le(s->body + 12, size < 0x7FFF ? (uint16_t)size : 0x7FFF);
        if (size >= 0x7FFF)
            st32le(s->body + 28, (uint32_t)size);
        s->body[14] = 9; /* DIMM */
        snprintf(name, sizeof name, "DIMM %u", i);
        smbios_string(s, 16, name);
        s->body[18] = 7; /* RAM */
        st16le(s->body + 19, 2);
        smbios_string(s, 23, "emu");
        smbios_end(s);
    }
    for (i = 0; i < 2; i++) {
        uint64_t from = i ? 4 * GIB : 0, to = i ? 4 * GIB + e->config.ram_bytes - e->ram_below_4g : e->ram_below_4g;
        if (to <= from)
            continue;
        smbios_begin(s, 19, (uint16_t)(0x1300 + i), 31);
        st32le(s->body + 4, (uint32_t)(from / KIB));
        st32le(s->body + 8, (uint32_t)(to / KIB - 1));
        st16le(s->body + 12, 0x1000);
        s->body[14] = 1;
        smbios_end(s);
    }
}

EMU_PRIV int smbios_build(struct emu *e, struct buf *tables, uint8_t anchor[31], struct err *err)
{
    struct smbios s;
    unsigned i;
    const char *uuid;
    memset(&s, 0, sizeof s);
    s.emu = e;
    s.out = tables;
    smbios_begin(&s, 0, 0x0000, 24);
    smbios_string(&s, 4, smbios_option(e, "0", "vendor", "emu"));
    smbios_string(&s, 5, smbios_option(e, "0", "version", EMU_VERSION));
    smbios_string(&s, 8, smbios_option(e, "0", "date", "01/01/2025"));
    st16le(s.body + 6, 0xE000);
    s.body[9] = 0; /* 64 KiB */
    st64le(s.body + 10, UINT64_C(0x00098080)); /* PCI, CD boot, selectable boot, EDD */
    s.body[18] = 0x01; /* ACPI */
    s.body[19] = 0x14; /* virtual machine, targeted content distribution */
    s.body[20] = EMU_VERSION_MAJOR, s.body[21] = EMU_VERSION_MINOR;
    s.body[22] = s.body[23] = 0xFF;
    smbios_end(&s);

    smbios_begin(&s, 1, 0x0100, 27);
    smbios_string(&s, 4, smbios_option(e, "1", "manufacturer", "emu"));
    smbios_string(&s, 5, smbios_option(e, "1", "product", "Standard PC (i440FX + PIIX, 1996)"));
    smbios_string(&s, 6, smbios_option(e, "1", "version", "pc"));
    smbios_string(&s, 7, smbios_option(e, "1", "serial", ""));
    uuid = smbios_option(e, "1", "uuid", e->config.uuid ? e->config.uuid : "");
    if (*uuid && !smbios_uuid(uuid, s.body + 8))
        return err_set(err, EMU_EINVAL, "-uuid %s: not of the form 01234567-89ab-cdef-0123-456789abcdef", uuid);
    s.body[24] = 6; /* power switch */
    smbios_string(&s, 25, smbios_option(e, "1", "sku", ""));
    smbios_string(&s, 26, smbios_option(e, "1", "family", ""));
    smbios_end(&s);

    smbios_begin(&s, 3, 0x0300, 22);
    smbios_string(&s, 4, smbios_option(e, "3", "manufacturer", "emu"));
    s.body[5] = 1; /* other */
    s.body[9] = s.body[10] = s.body[11] = 3; /* safe */
    s.body[12] = 2;
    smbios_end(&s);

    for (i = 0; i < (e->config.cpus ? e->config.cpus : 1); i++) {
        char name[16];
        smbios_begin(&s, 4, (uint16_t)(0x0400 + i), 42);
        snprintf(name, sizeof name, "CPU %u", i);
        smbios_string(&s, 4, name);
        s.body[5] = 3, s.body[6] = 1; /* central processor, family other */
        if (e->cpus) {
            uint32_t regs[4];
            char vendor[13];
            cpu_cpuid(e->cpus[i], 0, 0, regs);
            st32le(vendor, regs[1]), st32le(vendor + 4, regs[3]), st32le(vendor + 8, regs[2]);
            vendor[12] = 0;
            smbios_string(&s, 7, vendor);
            cpu_cpuid(e->cpus[i], 1, 0, regs);
            st32le(s.body + 8, regs[0]), st32le(s.body + 12, regs[3]);
        }
        smbios_string(&s, 16, "pc");
        st16le(s.body + 20, 2000), st16le(s.body + 22, 2000);
        s.body[24] = 0x41; /* populated, enabled */
        s.body[25] = 1;
        st16le(s.body + 26, 0xFFFF), st16le(s.body + 28, 0xFFFF), st16le(s.body + 30, 0xFFFF);
        s.body[35] = s.body[36] = s.body[37] = 1;
        st16le(s.body + 38, 0x0004); /* 64-bit capable */
        st16le(s.body + 40, 1);
        smbios_end(&s);
    }
    smbios_memory(&s);
    smbios_begin(&s, 32, 0x2000, 11);
    smbios_end(&s);
    smbios_begin(&s, 127, 0x7F00, 4);
    smbios_end(&s);
    if (tables->failed)
        return err_set(err, EMU_ENOMEM, "SMBIOS tables: out of memory");

    memset(anchor, 0, 31);
    memcpy(anchor, "_SM_", 4);
    anchor[5] = 31;
    anchor[6] = 2, anchor[7] = 8;
    st16le(anchor + 8, (uint16_t)s.largest);
    memcpy(anchor + 16, "_DMI_", 5);
    st16le(anchor + 22, (uint16_t)tables->size);
    st16le(anchor + 28, (uint16_t)s.structure_count);
    anchor[30] = 0x28;
    return 0;
}

static void smbios_seal(uint8_t anchor[31], uint32_t gpa)
{
    st32le(anchor + 24, gpa);
    anchor[21] = anchor[4] = 0;
    anchor[21] = fw_checksum(anchor + 16, 15);
    anchor[4] = fw_checksum(anchor, 31);
}

EMU_PRIV int smbios_install(struct fw *fw)
{
    struct buf tables;
    uint8_t anchor[31];
    uint32_t gpa = 0;
    int rc;
    buf_init(&tables, fw->emu);
    rc = smbios_build(fw->emu, &tables, anchor, NULL);
    if (!rc)
        gpa = fw_table_low(fw, tables.data, tables.size, 16);
    buf_free(&tables);
    if (!gpa)
        return rc ? rc : EMU_ENOSPC;
    smbios_seal(anchor, gpa);
    fw->smbios_gpa = fw_table_low(fw, anchor, sizeof anchor, 16);
    return fw->smbios_gpa ? 0 : EMU_ENOSPC;
}

/* SeaBIOS and OVMF place the tables themselves and then fix address and sums of the anchor. */
EMU_PRIV int smbios_publish_fw_cfg(struct emu *e)
{
    struct buf tables;
    uint8_t anchor[31];
    int rc;
    buf_init(&tables, e);
    rc = smbios_build(e, &tables, anchor, NULL);
    if (!rc) {
        smbios_seal(anchor, 0);
        rc = fw_cfg_add_file(e, "etc/smbios/smbios-tables", tables.data, tables.size);
    }
    if (!rc)
        rc = fw_cfg_add_file(e, "etc/smbios/smbios-anchor", anchor, sizeof anchor);
    buf_free(&tables);
    return rc;
}
