/* fw/loader.c - -kernel, -initrd, -append: a system without a boot loader.
 *
 * Models     Linux/x86 boot protocol up to 2.15 (16-bit and 32-bit entry), Multiboot 0.6.96, Xen's PVH entry (ELF note 18, hvm_start_info 1).
 * Contract   bios.c calls loader_create() once, which reads and checks the files, so that mistakes end the start with one line; then
 *            loader_load() at every power-on, after all tables are made. POST's stub jumps to FW_LOADER_CODE when it returned 0.
 *            Where a foreign BIOS is to start the kernel, linuxboot.c calls loader_create() and loader_linux_image() instead.
 * Theory     loader_load() copies everything into guest memory and writes a small program into the F segment that puts the CPU into the
 *            state that the protocol asks for: real mode segments, or a flat GDT, protected mode and registers.
 *            A 64-bit Linux kernel is entered at its 32-bit entry with a zero page made here; every other bzImage, and one with
 *            vga= on its command line, at its real-mode setup code, which asks our BIOS.
 * Invariants 1. Nothing of a file is trusted: every range is checked against the file and against RAM before it is copied.
 *            2. Kernel, initrd and tables never overlap: the initrd lies as high as it may, below the ACPI tables.
 * Missing    Multiboot graphics modes, ELF symbol sections for Multiboot, 64-bit Multiboot kernels (refused, as QEMU does), -dtb.
 */
#include "../machine.h"
#include "fw.h"

enum loader_kind { LOADER_LINUX, LOADER_MULTIBOOT, LOADER_PVH };
enum { LOADER_MAX_MODULES = 16, LOADER_ZERO_PAGE = 0x10000, LOADER_CMDLINE = 0x20000, LOADER_REAL = 0x10000, LOADER_INFO = 0x9500, LOADER_PVH_INFO = 0x6000 };

struct loader_file {
    uint8_t *data;
    size_t size;
    const char *args; /* Multiboot module line; owned by config */
};
struct fw_loader {
    uint8_t kind;
    struct loader_file kernel, initrd, modules[LOADER_MAX_MODULES];
    unsigned module_count;
    char *module_text;   /* copy of -initrd that module args point into */
    uint32_t header;     /* Multiboot header offset */
    uint32_t pvh_entry;
};

/* Registers at the kernel's first instruction. */
struct loader_start {
    bool real;
    uint16_t cs, ds, sp; /* real */
    uint32_t ip, eax, ebx, esi;
};

/* ================= the jump ================= */

struct loader_code {
    uint8_t bytes[256];
    unsigned at;
};
static void loader_emit(struct loader_code *c, const uint8_t *b, size_t n)
{
    memcpy(c->bytes + c->at, b, n);
    c->at += (unsigned)n;
}
static void loader_emit_imm(struct loader_code *c, unsigned opcode, uint32_t v)
{
    c->bytes[c->at++] = (uint8_t)opcode;
    st32le(c->bytes + c->at, v);
    c->at += 4;
}

static void loader_write_jump(struct fw *fw, const struct loader_start *s)
{
    static const uint8_t enter[] = { 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0 };                           /* mov eax, cr0; or al, 1; mov cr0, eax */
    static const uint8_t segments[] = { 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0x8E, 0xE0, 0x8E, 0xE8 };           /* ds, es, ss, fs, gs = ax */
    static const uint8_t gdt[32] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                     0xFF, 0xFF, 0, 0, 0, 0x9B, 0xCF, 0, 0xFF, 0xFF, 0, 0, 0, 0x93, 0xCF, 0 };   /* 10h: flat code, 18h: flat data */
    enum { GDT_AT = 0xA0, GDTR_AT = 0xD0 };
    struct loader_code c;
    memset(&c, 0, sizeof c);
    c.bytes[c.at++] = 0xFA; /* cli */
    c.bytes[c.at++] = 0xFC; /* cld */
    if (s->real) {
        uint8_t b[] = { 0xB8, 0, 0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0x8E, 0xE0, 0x8E, 0xE8, 0xBC, 0, 0, 0xEA, 0, 0, 0, 0 };
        st16le(b + 1, s->ds);
        st16le(b + 14, s->sp);
        st16le(b + 17, (uint16_t)s->ip);
        st16le(b + 19, s->cs);
        loader_emit(&c, b, sizeof b);
    } else {
        uint8_t lgdt[] = { 0x2E, 0x66, 0x0F, 0x01, 0x16, 0, 0 }, far_jump[] = { 0x66, 0xEA, 0, 0, 0, 0, 0x10, 0 };
        st16le(lgdt + 5, (FW_LOADER_CODE & 0xFFFF) + GDTR_AT);
        loader_emit(&c, lgdt, sizeof lgdt);
        loader_emit(&c, enter, sizeof enter);
        st32le(far_jump + 2, FW_LOADER_CODE + c.at + sizeof far_jump);
        loader_emit(&c, far_jump, sizeof far_jump);
        loader_emit_imm(&c, 0xB8, 0x18);
        loader_emit(&c, segments, sizeof segments);
        loader_emit_imm(&c, 0xBC, 0x7C00); /* esp */
        loader_emit_imm(&c, 0xB9, 0);      /* ecx */
        loader_emit_imm(&c, 0xBA, 0);      /* edx */
        loader_emit_imm(&c, 0xBF, 0);      /* edi */
        loader_emit_imm(&c, 0xBD, 0);      /* ebp */
        loader_emit_imm(&c, 0xBB, s->ebx);
        loader_emit_imm(&c, 0xBE, s->esi);
        loader_emit_imm(&c, 0xB8, s->eax);
        loader_emit_imm(&c, 0xE9, s->ip - (FW_LOADER_CODE + c.at + 5)); /* jmp near */
        memcpy(c.bytes + GDT_AT, gdt, sizeof gdt);
        st16le(c.bytes + GDTR_AT, sizeof gdt - 1);
        st32le(c.bytes + GDTR_AT + 2, FW_LOADER_CODE + GDT_AT);
    }
    (void)mem_load(fw->emu, FW_LOADER_CODE, c.bytes, sizeof c.bytes);
}

/* ================= guest memory ================= */

/* RAM that a loader may fill: below the EBDA, or from 1 MiB to the tables. */
static bool loader_room(struct fw *fw, uint64_t gpa, uint64_t size)
{
    uint64_t end = gpa + size;
    return end >= gpa && ((end <= FW_EBDA) || (gpa >= 0x100000 && end <= fw->tables_high));
}

static int loader_put(struct fw *fw, uint64_t gpa, const void *data, size_t size, const char *what, struct err *err)
{
    if (!loader_room(fw, gpa, size))
        return err_set(err, EMU_ENOSPC, "-kernel %s: %s (%lu KiB at 0x%lx) does not fit into memory; give more with -m", fw->emu->config.kernel, what,
                       (unsigned long)(size / 1024), (unsigned long)gpa);
    mem_write(fw->emu, gpa, data, size);
    return 0;
}

static void loader_zero(struct fw *fw, uint64_t gpa, uint64_t size)
{
    static const uint8_t zero[4096] = { 0 };
    for (; size; gpa += EMU_MIN(size, (uint64_t)sizeof zero), size -= EMU_MIN(size, (uint64_t)sizeof zero))
        mem_write(fw->emu, gpa, zero, (size_t)EMU_MIN(size, (uint64_t)sizeof zero));
}

/* ================= Linux ================= */

/* The number after vga= as the kernel's own boot loader understood it. */
static bool loader_vga(const char *append, unsigned *mode)
{
    const char *p = append ? strstr(append, "vga=") : NULL;
    uint64_t v;
    char word[16];
    size_t n;
    if (!p || (p != append && p[-1] != ' '))
        return false;
    p += 4;
    n = strcspn(p, " ");
    snprintf(word, sizeof word, "%.*s", (int)EMU_MIN(n, sizeof word - 1), p);
    if (!strcmp(word, "normal"))
        *mode = 0xFFFF;
    else if (!strcmp(word, "ext"))
        *mode = 0xFFFE;
    else if (!strcmp(word, "ask"))
        *mode = 0xFFFD;
    else if (parse_u64(word, 0, 0xFFFF, &v) == 0)
        *mode = (unsigned)v;
    else
        return false;
    return true;
}

static void loader_zero_page(struct fw *fw, uint8_t *zp)
{
    unsigned i, pos;
    uint64_t low = fw->tables_high;
    pos = fw_ld16(fw, BDA_CURSOR_POS);
    zp[0x00] = (uint8_t)pos;
    zp[0x01] = (uint8_t)(pos >> 8);
    st16le(zp + 0x02, (uint16_t)EMU_MIN((low - MIB) / KIB, (uint64_t)0xFFFF));
    zp[0x06] = 3;
    zp[0x07] = 80;
    st16le(zp + 0x0A, 3);
    zp[0x0E] = 25;
    zp[0x0F] = 1; /* VGA text */
    st16le(zp + 0x10, 16);
    st64le(zp + 0x70, fw->rsdp_gpa);
    st32le(zp + 0x1E0, (uint32_t)((low - MIB) / KIB));
    zp[0x1E8] = (uint8_t)fw->e820_count;
    for (i = 0; i < fw->e820_count; i++) {
        uint8_t *m = zp + 0x2D0 + 20 * i;
        st64le(m, fw->e820[i].base);
        st64le(m + 8, fw->e820[i].size);
        st32le(m + 16, fw->e820[i].type);
    }
}

/* Everything but what only the direct entry needs. */
static int loader_linux_pieces(struct fw *fw, struct loader_image *i, struct err *err)
{
    struct fw_loader *l = fw->loader;
    struct emu *e = fw->emu;
    const uint8_t *k = l->kernel.data;
    size_t length = e->config.append ? strlen(e->config.append) : 0, limit;
    memset(i, 0, sizeof *i);
    i->version = ld16le(k + 0x206);
    i->setup = (k[0x1F1] ? k[0x1F1] + 1u : 5u) * 512;
    i->high = i->version >= 0x200 && (k[0x211] & 1);
    i->vga = 0xFFFF;
    i->real = i->high ? LOADER_REAL : 0x90000;
    i->cmdline = i->high ? LOADER_CMDLINE : 0x9A000;
    i->kernel = i->high ? 0x100000 : 0x10000;
    i->kernel_data = k + i->setup;
    i->kernel_size = l->kernel.size - i->setup;
    i->initrd_data = l->initrd.data;
    i->initrd_size = l->initrd.size;
    limit = i->version >= 0x206 ? ld32le(k + 0x238) : 255;
    if (length > limit || length > 0xF000)
        return err_set(err, EMU_EINVAL, "-append: %lu bytes are more than this kernel's limit of %lu", (unsigned long)length, (unsigned long)limit);
    if (l->initrd.data) {
        uint32_t initrd_max = i->version >= 0x203 ? ld32le(k + 0x22C) : 0x37FFFFFF;
        uint64_t top = EMU_MIN((uint64_t)initrd_max + 1, fw->tables_high);
        if ((uint64_t)l->initrd.size + ((uint64_t)l->kernel.size << 2) + 0x100000 > top)
            return err_set(err, EMU_ENOSPC, "-initrd %s: %lu MiB do not fit beside the kernel; give more memory with -m", e->config.initrd,
                           (unsigned long)(l->initrd.size >> 20));
        i->initrd = (uint32_t)((top - l->initrd.size) & ~UINT64_C(0xFFF));
    }
    return 0;
}

/* The header's fields that a boot loader fills in. */
static void loader_linux_header(const struct loader_image *i, uint8_t *head)
{
    if (i->version >= 0x200) {
        head[0x210] = 0xFF; /* a loader without a number */
        if (i->version >= 0x201) {
            head[0x211] |= 0x80; /* heap */
            st16le(head + 0x224, (uint16_t)((i->high ? 0x10000 : 0xA000) - 0x200));
        }
        st32le(head + 0x218, i->initrd);
        st32le(head + 0x21C, (uint32_t)i->initrd_size);
    }
    if (i->version >= 0x202)
        st32le(head + 0x228, i->cmdline);
    else {
        st16le(head + 0x20, 0xA33F);
        st16le(head + 0x22, (uint16_t)(i->cmdline - i->real));
    }
    st16le(head + 0x1FA, (uint16_t)i->vga);
}

EMU_PRIV int loader_linux_image(struct fw *fw, struct loader_image *i, struct err *err)
{
    struct fw_loader *l = fw->loader;
    struct emu *e = fw->emu;
    int rc;
    if (l->kind != LOADER_LINUX)
        return err_set(err, EMU_ENOTSUP, "-kernel %s: together with -bios only a Linux bzImage can be started; leave -bios out", e->config.kernel);
    if ((rc = loader_linux_pieces(fw, i, err)))
        return rc;
    if (!i->high || i->version < 0x202)
        return err_set(err, EMU_ENOTSUP, "-kernel %s: too old a Linux image (boot protocol %u.%u) to be started together with -bios; leave -bios out", e->config.kernel,
                       i->version >> 8, i->version & 255);
    if (i->kernel + (uint64_t)i->kernel_size > fw->tables_high)
        return err_set(err, EMU_ENOSPC, "-kernel %s: does not fit into memory; give more with -m", e->config.kernel);
    loader_vga(e->config.append ? e->config.append : "", &i->vga);
    i->head = emu_alloc(e, i->setup);
    if (!i->head)
        return err_set(err, EMU_ENOMEM, "out of memory");
    memcpy(i->head, l->kernel.data, i->setup);
    loader_linux_header(i, i->head);
    return 0;
}

static int loader_linux(struct fw *fw, struct loader_start *s, struct err *err)
{
    struct emu *e = fw->emu;
    const uint8_t *k = fw->loader->kernel.data;
    const char *append = e->config.append ? e->config.append : "";
    struct loader_image i;
    bool direct;
    uint8_t *head;
    int rc;
    if ((rc = loader_linux_pieces(fw, &i, err)))
        return rc;
    direct = !loader_vga(append, &i.vga) && i.version >= 0x20C && (ld16le(k + 0x236) & 1) && i.high;
    if ((rc = loader_put(fw, i.kernel, i.kernel_data, i.kernel_size, "the kernel", err)))
        return rc;
    if (i.initrd_data)
        mem_write(e, i.initrd, i.initrd_data, i.initrd_size);
    mem_write(e, i.cmdline, append, strlen(append) + 1);
    head = emu_alloc(e, EMU_MAX(i.setup, (size_t)4096));
    if (!head)
        return err_set(err, EMU_ENOMEM, "out of memory");
    if (direct)
        memcpy(head + 0x1F1, k + 0x1F1, EMU_MIN((size_t)(0x202 + k[0x201]), (size_t)0x290) - 0x1F1);
    else
        memcpy(head, k, i.setup);
    loader_linux_header(&i, head);
    if (direct) {
        loader_zero_page(fw, head);
        mem_write(e, LOADER_ZERO_PAGE, head, 4096);
        s->real = false;
        s->ip = ld32le(k + 0x214) ? ld32le(k + 0x214) : 0x100000;
        s->esi = LOADER_ZERO_PAGE;
    } else {
        mem_write(e, i.real, head, i.setup);
        s->real = true;
        s->ds = (uint16_t)(i.real >> 4);
        s->cs = (uint16_t)(s->ds + 0x20);
        s->sp = i.high ? 0xFFF0 : 0x9FF0;
        s->ip = 0;
    }
    emu_free(e, head);
    return 0;
}

/* ================= ELF ================= */

/* Loads PT_LOAD segments of either class at their physical addresses; *end: first byte behind the highest. */
static int loader_elf(struct fw *fw, uint64_t *entry, uint64_t *end, struct err *err)
{
    struct fw_loader *l = fw->loader;
    const uint8_t *k = l->kernel.data;
    size_t size = l->kernel.size, i, count, entry_size;
    uint64_t table;
    bool wide = k[4] == 2;
    int rc;
    *end = 0;
    if (size < 64)
        return err_set(err, EMU_EFORMAT, "-kernel %s: ELF header is cut short", fw->emu->config.kernel);
    *entry = wide ? ld64le(k + 24) : ld32le(k + 24);
    table = wide ? ld64le(k + 32) : ld32le(k + 28);
    entry_size = ld16le(k + (wide ? 54 : 42));
    count = ld16le(k + (wide ? 56 : 44));
    for (i = 0; i < count; i++) {
        uint64_t at = table + i * entry_size, offset, paddr, filesz, memsz;
        const uint8_t *p;
        if (at > size || size - at < (wide ? 56u : 32u))
            return err_set(err, EMU_EFORMAT, "-kernel %s: program header %lu lies outside of the file", fw->emu->config.kernel, (unsigned long)i);
        p = k + at;
        if (ld32le(p) != 1)
            continue;
        offset = wide ? ld64le(p + 8) : ld32le(p + 4);
        paddr = wide ? ld64le(p + 24) : ld32le(p + 12);
        filesz = wide ? ld64le(p + 32) : ld32le(p + 16);
        memsz = wide ? ld64le(p + 40) : ld32le(p + 20);
        if (!memsz)
            continue;
        if (offset > size || filesz > size - offset || filesz > memsz)
            return err_set(err, EMU_EFORMAT, "-kernel %s: segment %lu lies outside of the file", fw->emu->config.kernel, (unsigned long)i);
        if (!loader_room(fw, paddr, memsz))
            return err_set(err, EMU_ENOSPC, "-kernel %s: segment %lu (%lu KiB at 0x%lx) does not lie in free memory; link it lower or give more with -m",
                           fw->emu->config.kernel, (unsigned long)i, (unsigned long)(memsz / 1024), (unsigned long)paddr);
        if ((rc = loader_put(fw, paddr, k + offset, (size_t)filesz, "a segment", err)))
            return rc;
        loader_zero(fw, paddr + filesz, memsz - filesz);
        *end = EMU_MAX(*end, paddr + memsz);
    }
    if (!*end)
        return err_set(err, EMU_EFORMAT, "-kernel %s: ELF file without a segment to load", fw->emu->config.kernel);
    return 0;
}

/* XEN_ELFNOTE_PHYS32_ENTRY, in program headers of type PT_NOTE. 0: none. */
static uint32_t loader_pvh_note(const struct loader_file *f)
{
    const uint8_t *k = f->data;
    size_t size = f->size, i, count, entry_size;
    uint64_t table;
    bool wide = k[4] == 2;
    if (size < 64)
        return 0;
    table = wide ? ld64le(k + 32) : ld32le(k + 28);
    entry_size = ld16le(k + (wide ? 54 : 42));
    count = ld16le(k + (wide ? 56 : 44));
    for (i = 0; i < count; i++) {
        uint64_t at = table + i * entry_size, offset, left;
        if (at > size || size - at < (wide ? 56u : 32u))
            return 0;
        if (ld32le(k + at) != 4)
            continue;
        offset = wide ? ld64le(k + at + 8) : ld32le(k + at + 4);
        left = wide ? ld64le(k + at + 32) : ld32le(k + at + 16);
        if (offset > size || left > size - offset)
            continue;
        while (left >= 12) {
            uint64_t name = (ld32le(k + offset) + UINT64_C(3)) & ~UINT64_C(3), desc = (ld32le(k + offset + 4) + UINT64_C(3)) & ~UINT64_C(3);
            if (12 + name + desc > left)
                break;
            if (ld32le(k + offset + 8) == 18 && ld32le(k + offset) == 4 && !memcmp(k + offset + 12, "Xen", 4) && desc >= 4)
                return ld32le(k + offset + 12 + name);
            offset += 12 + name + desc;
            left -= 12 + name + desc;
        }
    }
    return 0;
}

static int loader_pvh(struct fw *fw, struct loader_start *s, struct err *err)
{
    struct fw_loader *l = fw->loader;
    struct emu *e = fw->emu;
    const char *append = e->config.append ? e->config.append : "";
    uint8_t info[56], module[32];
    uint64_t entry, end;
    unsigned i;
    int rc = loader_elf(fw, &entry, &end, err);
    if (rc)
        return rc;
    if (strlen(append) > 0xF000)
        return err_set(err, EMU_EINVAL, "-append: too long");
    memset(info, 0, sizeof info);
    st32le(info, 0x336EC578);
    st32le(info + 4, 1);
    if (l->initrd.data) {
        uint64_t at = (fw->tables_high - EMU_MIN((uint64_t)l->initrd.size, fw->tables_high)) & ~UINT64_C(0xFFF);
        if (at < EMU_MAX(end, MIB))
            return err_set(err, EMU_ENOSPC, "-initrd %s does not fit; give more memory with -m", e->config.initrd);
        mem_write(e, at, l->initrd.data, l->initrd.size);
        memset(module, 0, sizeof module);
        st64le(module, at);
        st64le(module + 8, l->initrd.size);
        mem_write(e, LOADER_PVH_INFO + 0x100, module, sizeof module);
        st32le(info + 12, 1);
        st64le(info + 16, LOADER_PVH_INFO + 0x100);
    }
    mem_write(e, LOADER_CMDLINE, append, strlen(append) + 1);
    st64le(info + 24, LOADER_CMDLINE);
    st64le(info + 32, fw->rsdp_gpa);
    st64le(info + 40, LOADER_PVH_INFO + 0x200);
    st32le(info + 48, fw->e820_count);
    for (i = 0; i < fw->e820_count; i++) {
        uint8_t m[24];
        memset(m, 0, sizeof m);
        st64le(m, fw->e820[i].base);
        st64le(m + 8, fw->e820[i].size);
        st32le(m + 16, fw->e820[i].type);
        mem_write(e, LOADER_PVH_INFO + 0x200 + 24 * (uint64_t)i, m, sizeof m);
    }
    mem_write(e, LOADER_PVH_INFO, info, sizeof info);
    s->ip = l->pvh_entry;
    s->ebx = LOADER_PVH_INFO;
    return 0;
}

/* ================= Multiboot ================= */

static bool loader_multiboot_header(const struct loader_file *f, uint32_t *at)
{
    uint32_t i;
    for (i = 0; i + 12 <= f->size && i < 8192; i += 4)
        if (ld32le(f->data + i) == 0x1BADB002 && (uint32_t)(ld32le(f->data + i) + ld32le(f->data + i + 4) + ld32le(f->data + i + 8)) == 0) {
            *at = i;
            return true;
        }
    return false;
}

/* Address fields of the header (flag 16): a flat image. */
static int loader_multiboot_flat(struct fw *fw, uint64_t *entry, uint64_t *end, struct err *err)
{
    struct fw_loader *l = fw->loader;
    const uint8_t *h = l->kernel.data + l->header;
    uint32_t header_addr, load, load_end, bss_end, offset;
    uint64_t bytes;
    int rc;
    if (l->kernel.size - l->header < 32)
        return err_set(err, EMU_EFORMAT, "-kernel %s: Multiboot header is cut short", fw->emu->config.kernel);
    header_addr = ld32le(h + 12), load = ld32le(h + 16), load_end = ld32le(h + 20), bss_end = ld32le(h + 24);
    *entry = ld32le(h + 28);
    if (header_addr < load || header_addr - load > l->header)
        return err_set(err, EMU_EFORMAT, "-kernel %s: Multiboot addresses contradict each other", fw->emu->config.kernel);
    offset = l->header - (header_addr - load);
    bytes = load_end ? (uint64_t)load_end - load : l->kernel.size - offset;
    if ((load_end && load_end < load) || bytes > l->kernel.size - offset)
        return err_set(err, EMU_EFORMAT, "-kernel %s: Multiboot load addresses lie outside of the file", fw->emu->config.kernel);
    if ((rc = loader_put(fw, load, l->kernel.data + offset, (size_t)bytes, "the kernel", err)))
        return rc;
    *end = load + bytes;
    if (bss_end > *end) {
        if (!loader_room(fw, *end, bss_end - *end))
            return err_set(err, EMU_ENOSPC, "-kernel %s: its BSS does not fit; give more memory with -m", fw->emu->config.kernel);
        loader_zero(fw, *end, bss_end - *end);
        *end = bss_end;
    }
    return 0;
}

static int loader_multiboot(struct fw *fw, struct loader_start *s, struct err *err)
{
    static const char name[] = "emu";
    struct fw_loader *l = fw->loader;
    struct emu *e = fw->emu;
    uint32_t flags = ld32le(l->kernel.data + l->header + 4), mods, mmap;
    uint8_t info[120];
    char line[4096];
    uint64_t entry, end, at;
    unsigned i;
    int rc;
    if (flags & 0x10000)
        rc = loader_multiboot_flat(fw, &entry, &end, err);
    else
        rc = loader_elf(fw, &entry, &end, err);
    if (rc)
        return rc;
    at = EMU_MAX((end + 0xFFF) & ~UINT64_C(0xFFF), UINT64_C(0x100000));
    memset(info, 0, sizeof info);
    mods = LOADER_INFO + 0x80, mmap = LOADER_INFO + 0x80 + 16 * LOADER_MAX_MODULES;
    if (strlen(e->config.kernel) + (e->config.append ? strlen(e->config.append) : 0) + 2 > sizeof line)
        return err_set(err, EMU_EINVAL, "-append: more than %u bytes with the kernel's name", (unsigned)sizeof line - 2);
    snprintf(line, sizeof line, "%s%s%s", e->config.kernel, e->config.append ? " " : "", e->config.append ? e->config.append : "");
    if ((rc = loader_put(fw, at, line, strlen(line) + 1, "the command line", err)))
        return rc;
    st32le(info + 16, (uint32_t)at);
    at += strlen(line) + 1;
    if ((rc = loader_put(fw, at, name, sizeof name, "the loader's name", err)))
        return rc;
    st32le(info + 64, (uint32_t)at);
    at += sizeof name;
    for (i = 0; i < l->module_count; i++) {
        struct loader_file *m = &l->modules[i];
        uint8_t entry_bytes[16];
        memset(entry_bytes, 0, sizeof entry_bytes);
        if ((rc = loader_put(fw, at, m->args, strlen(m->args) + 1, "a module's line", err)))
            return rc;
        st32le(entry_bytes + 8, (uint32_t)at);
        at = (at + strlen(m->args) + 1 + 0xFFF) & ~UINT64_C(0xFFF);
        if ((rc = loader_put(fw, at, m->data, m->size, "a module", err)))
            return rc;
        st32le(entry_bytes, (uint32_t)at);
        st32le(entry_bytes + 4, (uint32_t)(at + m->size));
        at += m->size;
        mem_write(e, mods + 16 * i, entry_bytes, sizeof entry_bytes);
    }
    st32le(info, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    st32le(info + 4, 639);
    st32le(info + 8, (uint32_t)((fw->tables_high - MIB) / KIB));
    st32le(info + 12, 0x8000FFFFu);
    st32le(info + 20, l->module_count);
    st32le(info + 24, mods);
    st32le(info + 44, 24 * fw->e820_count);
    st32le(info + 48, mmap);
    for (i = 0; i < fw->e820_count; i++) {
        uint8_t m[24];
        st32le(m, 20);
        st64le(m + 4, fw->e820[i].base);
        st64le(m + 12, fw->e820[i].size);
        st32le(m + 20, fw->e820[i].type);
        mem_write(e, mmap + 24 * (uint64_t)i, m, sizeof m);
    }
    mem_write(e, LOADER_INFO, info, sizeof info);
    s->ip = (uint32_t)entry;
    s->eax = 0x2BADB002;
    s->ebx = LOADER_INFO;
    return 0;
}

EMU_PRIV int loader_load(struct emu *e, struct err *err)
{
    struct fw *fw = e->firmware;
    struct loader_start s;
    int rc;
    if (!fw || !fw->loader)
        return 0;
    memset(&s, 0, sizeof s);
    rc = fw->loader->kind == LOADER_LINUX ? loader_linux(fw, &s, err) : fw->loader->kind == LOADER_PVH ? loader_pvh(fw, &s, err) : loader_multiboot(fw, &s, err);
    if (!rc)
        loader_write_jump(fw, &s);
    return rc;
}

/* ================= files ================= */

static int loader_read(const char *option, const char *path, struct loader_file *f, struct err *err)
{
    int rc = host_file_load(path, &f->data, &f->size, (size_t)2047 << 20, err);
    return rc ? err_prefix(err, rc, "%s", option) : 0;
}

/* -initrd "file args,file args" for Multiboot. */
static int loader_modules(struct fw *fw, struct err *err)
{
    struct fw_loader *l = fw->loader;
    char *p, *next, *space;
    int rc;
    l->module_text = emu_strdup(fw->emu, fw->emu->config.initrd);
    if (!l->module_text)
        return err_set(err, EMU_ENOMEM, "out of memory");
    for (p = l->module_text; p && *p; p = next) {
        struct loader_file *m = &l->modules[l->module_count];
        next = strchr(p, ',');
        if (next)
            *next++ = 0;
        while (*p == ' ')
            p++;
        if (l->module_count == LOADER_MAX_MODULES)
            return err_set(err, EMU_EINVAL, "-initrd: more than %d modules", LOADER_MAX_MODULES);
        m->args = p;
        space = strchr(p, ' ');
        if (space)
            *space = 0;
        rc = loader_read("-initrd", p, m, err);
        if (space)
            *space = ' ';
        if (rc)
            return rc;
        l->module_count++;
    }
    return 0;
}

EMU_PRIV int loader_create(struct fw *fw, struct err *err)
{
    struct emu *e = fw->emu;
    struct fw_loader *l = emu_alloc(e, sizeof *l);
    const uint8_t *k;
    bool elf;
    int rc;
    if (!l)
        return err_set(err, EMU_ENOMEM, "-kernel: out of memory");
    fw->loader = l;
    if ((rc = loader_read("-kernel", e->config.kernel, &l->kernel, err)))
        return rc;
    k = l->kernel.data;
    elf = l->kernel.size >= 64 && !memcmp(k, "\177ELF", 4);
    if (l->kernel.size > 0x400 && ld32le(k + 0x202) == 0x53726448 /* HdrS */) {
        size_t setup = (k[0x1F1] ? k[0x1F1] + 1u : 5u) * 512;
        /* syssize: what the boot protocol's header says follows the setup sectors, in units of 16 bytes, the last one
         * not always filled: memtest86+ (Documentation/arch/x86/boot.rst) */
        if (l->kernel.size <= setup || l->kernel.size - setup + 15 < (uint64_t)ld32le(k + 0x1F4) * 16)
            return err_set(err, EMU_EFORMAT, "-kernel %s: Linux image is cut short", e->config.kernel);
        l->kind = LOADER_LINUX;
    } else if (loader_multiboot_header(&l->kernel, &l->header)) {
        l->kind = LOADER_MULTIBOOT;
        if (!elf && !(ld32le(k + l->header + 4) & 0x10000))
            return err_set(err, EMU_EFORMAT, "-kernel %s: is no ELF file, and its Multiboot header has no addresses (flag 16)", e->config.kernel);
        if (elf && k[4] == 2 && !(ld32le(k + l->header + 4) & 0x10000))
            return err_set(err, EMU_ENOTSUP, "-kernel %s: a 64-bit ELF file can't be started by Multiboot; link it as elf32-i386", e->config.kernel);
    } else if (elf && (l->pvh_entry = loader_pvh_note(&l->kernel)) != 0)
        l->kind = LOADER_PVH;
    else
        return err_set(err, EMU_EFORMAT, "-kernel %s: neither a Linux image nor %s; see README, -kernel", e->config.kernel,
                       elf ? "an ELF file with a Multiboot header or PVH note" : "a Multiboot kernel");
    if (!e->config.initrd)
        return 0;
    return l->kind == LOADER_MULTIBOOT ? loader_modules(fw, err) : loader_read("-initrd", e->config.initrd, &l->initrd, err);
}

EMU_PRIV void loader_free(struct fw *fw)
{
    struct fw_loader *l = fw->loader;
    unsigned i;
    if (!l)
        return;
    for (i = 0; i < LOADER_MAX_MODULES; i++)
        free(l->modules[i].data);
    free(l->kernel.data);
    free(l->initrd.data);
    emu_free(fw->emu, l->module_text);
    emu_free(fw->emu, l);
    fw->loader = NULL;
}
