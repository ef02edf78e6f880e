/* front/gdb.c - stub for GDB's remote serial protocol.
 *
 * Models     "GDB Remote Serial Protocol" (GDB manual, appendix E), target description org.gnu.gdb.i386.{core,sse,segments}.
 * Contract   -gdb, -s and the monitor's gdbserver create it on a character line. The loop calls gdb_on_break() at breakpoints, with the machine paused.
 * Theory     A packet is collected byte by byte, run, and answered. The machine is paused whenever GDB may look at it. Every CPU is a thread
 *            (number + 1). The register file is described as x86-64 in every mode, as QEMU does: GDB's `set architecture` shows 16- and
 *            32-bit code. Addresses are linear.
 *
 *            idle --'$'--> packet --'#'--> checksum (2 digits) --> run, answer, idle        (gdb_byte)
 * Invariants 1. A stop is reported exactly once for each continue or step.
 *            2. Breakpoints of a stub that goes away are taken out.
 */
#include "../machine.h"
#include "../cpu/cpu.h"
#include "front.h"

#define GDB_PACKET_MAX 16384
#define GDB_BREAKPOINTS 128
#define GDB_SIGINT 2
#define GDB_SIGTRAP 5
#define GDB_OUT_MAX 65536 /* with more than that unsent no packet is taken */

enum gdb_state { GDB_IDLE, GDB_PACKET, GDB_ESCAPE, GDB_SUM1, GDB_SUM2 };

struct gdbstub {
    struct emu *emu;
    struct chr *chr;
    enum gdb_state state;
    char packet[GDB_PACKET_MAX + 1];
    size_t length;
    uint8_t sum, told_sum;
    bool no_ack, running; /* running: GDB waits for a stop */
    unsigned cpu;         /* selected by Hg */
    struct breakpoint points[GDB_BREAKPOINTS];
    unsigned point_count;
    struct buf out;
    bool busy, ended; /* a packet is being run; it was the stub's end: `monitor gdbserver` */
};

/* ---- sending ---- */

static void gdb_flush(struct gdbstub *g)
{
    int n;
    if (!g->out.size)
        return;
    n = chr_write(g->chr, g->out.data, g->out.size);
    if (n > 0) {
        memmove(g->out.data, g->out.data + n, g->out.size - (size_t)n);
        g->out.size -= (size_t)n;
    }
}

/* $data#sum, with the bytes that need it escaped. */
static void gdb_send_bytes(struct gdbstub *g, const char *data, size_t size)
{
    uint8_t sum = 0;
    buf_add(&g->out, "$", 1);
    for (; size; size--, data++) {
        uint8_t ch = (uint8_t)*data;
        if (ch == '#' || ch == '$' || ch == '}' || ch == '*') {
            buf_add(&g->out, "}", 1);
            sum = (uint8_t)(sum + '}');
            ch ^= 0x20;
        }
        buf_add(&g->out, &ch, 1);
        sum = (uint8_t)(sum + ch);
    }
    buf_printf(&g->out, "#%02x", sum);
    gdb_flush(g);
}
static void gdb_send(struct gdbstub *g, const char *text) { gdb_send_bytes(g, text, strlen(text)); }

static void gdb_hex(struct buf *b, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size--)
        buf_printf(b, "%02x", *p++);
}

static int gdb_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static uint64_t gdb_number(const char **p)
{
    uint64_t v = 0;
    int d;
    while ((d = gdb_digit(**p)) >= 0) {
        v = v << 4 | (unsigned)d;
        ++*p;
    }
    return v;
}

/* Up to size bytes of hex; how many came. */
static size_t gdb_unhex(const char *p, uint8_t *out, size_t size)
{
    size_t n = 0;
    while (n < size && gdb_digit(p[0]) >= 0 && gdb_digit(p[1]) >= 0) {
        out[n++] = (uint8_t)(gdb_digit(p[0]) << 4 | gdb_digit(p[1]));
        p += 2;
    }
    return n;
}

/* ---- registers; ORDER gdb_register: gdb_target_parts and gdb_register() ---- */
enum { GDB_RIP = 16, GDB_EFLAGS = 17, GDB_SEGS = 18, GDB_ST = 24, GDB_FCTRL = 32, GDB_XMM = 40, GDB_MXCSR = 56, GDB_FS_BASE = 57, GDB_GS_BASE = 58,
       GDB_K_GS_BASE = 59, GDB_CR0 = 60, GDB_CR2, GDB_CR3, GDB_CR4, GDB_CR8, GDB_EFER, GDB_REGISTERS };

static const char *const gdb_target_parts[] = { /* joined: C99 promises 4095 characters a literal */
    "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\"><architecture>i386:x86-64</architecture>"
    "<feature name=\"org.gnu.gdb.i386.core\">"
    "<flags id=\"i386_eflags\" size=\"4\"><field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
    "<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/>"
    "<field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/>"
    "<field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"VIF\" start=\"19\" end=\"19\"/>"
    "<field name=\"VIP\" start=\"20\" end=\"20\"/><field name=\"ID\" start=\"21\" end=\"21\"/></flags>"
#define GDB_REG(name, bits, type) "<reg name=\"" name "\" bitsize=\"" bits "\" type=\"" type "\"/>"
    GDB_REG("rax", "64", "int64") GDB_REG("rbx", "64", "int64") GDB_REG("rcx", "64", "int64") GDB_REG("rdx", "64", "int64") GDB_REG("rsi", "64", "int64")
    GDB_REG("rdi", "64", "int64") GDB_REG("rbp", "64", "data_ptr") GDB_REG("rsp", "64", "data_ptr") GDB_REG("r8", "64", "int64") GDB_REG("r9", "64", "int64")
    GDB_REG("r10", "64", "int64") GDB_REG("r11", "64", "int64") GDB_REG("r12", "64", "int64") GDB_REG("r13", "64", "int64") GDB_REG("r14", "64", "int64")
    GDB_REG("r15", "64", "int64") GDB_REG("rip", "64", "code_ptr") GDB_REG("eflags", "32", "i386_eflags") GDB_REG("cs", "32", "int32") GDB_REG("ss", "32", "int32")
    GDB_REG("ds", "32", "int32") GDB_REG("es", "32", "int32") GDB_REG("fs", "32", "int32") GDB_REG("gs", "32", "int32") GDB_REG("st0", "80", "i387_ext")
    GDB_REG("st1", "80", "i387_ext") GDB_REG("st2", "80", "i387_ext") GDB_REG("st3", "80", "i387_ext") GDB_REG("st4", "80", "i387_ext") GDB_REG("st5", "80", "i387_ext")
    GDB_REG("st6", "80", "i387_ext") GDB_REG("st7", "80", "i387_ext") GDB_REG("fctrl", "32", "int") GDB_REG("fstat", "32", "int") GDB_REG("ftag", "32", "int")
    GDB_REG("fiseg", "32", "int") GDB_REG("fioff", "32", "int") GDB_REG("foseg", "32", "int") GDB_REG("fooff", "32", "int") GDB_REG("fop", "32", "int")
    , "</feature><feature name=\"org.gnu.gdb.i386.sse\"><vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/><vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/><union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
    "<field name=\"uint128\" type=\"uint128\"/></union>"
    GDB_REG("xmm0", "128", "vec128") GDB_REG("xmm1", "128", "vec128") GDB_REG("xmm2", "128", "vec128") GDB_REG("xmm3", "128", "vec128") GDB_REG("xmm4", "128", "vec128")
    GDB_REG("xmm5", "128", "vec128") GDB_REG("xmm6", "128", "vec128") GDB_REG("xmm7", "128", "vec128") GDB_REG("xmm8", "128", "vec128") GDB_REG("xmm9", "128", "vec128")
    GDB_REG("xmm10", "128", "vec128") GDB_REG("xmm11", "128", "vec128") GDB_REG("xmm12", "128", "vec128") GDB_REG("xmm13", "128", "vec128") GDB_REG("xmm14", "128", "vec128")
    GDB_REG("xmm15", "128", "vec128") GDB_REG("mxcsr", "32", "int")
    "</feature><feature name=\"org.gnu.gdb.i386.segments\">" GDB_REG("fs_base", "64", "int") GDB_REG("gs_base", "64", "int")
    "</feature><feature name=\"emu.system\">" GDB_REG("k_gs_base", "64", "int") GDB_REG("cr0", "64", "int") GDB_REG("cr2", "64", "int") GDB_REG("cr3", "64", "int")
    GDB_REG("cr4", "64", "int") GDB_REG("cr8", "64", "int") GDB_REG("efer", "64", "int") "</feature></target>",
};
#undef GDB_REG

static const uint8_t gdb_gpr_order[16] = { GPR_RAX, GPR_RBX, GPR_RCX, GPR_RDX, GPR_RSI, GPR_RDI, GPR_RBP, GPR_RSP, 8, 9, 10, 11, 12, 13, 14, 15 };
static const uint8_t gdb_seg_order[6] = { SEG_CS, SEG_SS, SEG_DS, SEG_ES, SEG_FS, SEG_GS };

/* Bytes of register n in GDB's order; its size, 0: no such register. */
static unsigned gdb_register(struct cpu *c, unsigned n, uint8_t out[16])
{
    uint32_t words[8];
    if (n < 16) {
        st64le(out, c->gpr[gdb_gpr_order[n]]);
        return 8;
    }
    if (n == GDB_RIP) {
        st64le(out, c->rip);
        return 8;
    }
    if (n == GDB_EFLAGS) {
        st32le(out, cpu_eflags(c));
        return 4;
    }
    if (n < GDB_ST) {
        st32le(out, c->seg[gdb_seg_order[n - GDB_SEGS]].selector);
        return 4;
    }
    if (n < GDB_FCTRL) {
        const struct x87_reg *r = &c->x87[(c->x87_top + n - GDB_ST) & 7];
        st64le(out, r->mant);
        st16le(out + 8, r->exp);
        return 10;
    }
    if (n < GDB_XMM) {
        words[0] = c->x87_control, words[1] = (uint32_t)(c->x87_status | c->x87_top << 11), words[2] = x87_tag_word(c), words[3] = c->x87_cs;
        words[4] = (uint32_t)c->x87_ip, words[5] = c->x87_ds, words[6] = (uint32_t)c->x87_dp, words[7] = c->x87_opcode;
        st32le(out, words[n - GDB_FCTRL]);
        return 4;
    }
    if (n < GDB_MXCSR) {
        st64le(out, c->xmm[n - GDB_XMM].q[0]);
        st64le(out + 8, c->xmm[n - GDB_XMM].q[1]);
        return 16;
    }
    switch (n) {
    case GDB_MXCSR: st32le(out, c->mxcsr); return 4;
    case GDB_FS_BASE: st64le(out, c->seg[SEG_FS].base); return 8;
    case GDB_GS_BASE: st64le(out, c->seg[SEG_GS].base); return 8;
    case GDB_K_GS_BASE: st64le(out, c->kernel_gs_base); return 8;
    case GDB_CR0: st64le(out, c->cr0); return 8;
    case GDB_CR2: st64le(out, c->cr2); return 8;
    case GDB_CR3: st64le(out, c->cr3); return 8;
    case GDB_CR4: st64le(out, c->cr4); return 8;
    case GDB_CR8: st64le(out, lapic_get_tpr(c)); return 8;
    case GDB_EFER: st64le(out, c->efer); return 8;
    default: return 0;
    }
}

/* Writes what a debugger may write. false: the register keeps its value. */
static bool gdb_set_register(struct cpu *c, unsigned n, const uint8_t *in)
{
    if (n < 16) {
        c->gpr[gdb_gpr_order[n]] = ld64le(in);
    } else if (n == GDB_RIP) {
        c->rip = ld64le(in);
    } else if (n == GDB_EFLAGS) {
        cpu_set_eflags(c, ld32le(in));
    } else if (n >= GDB_SEGS && n < GDB_ST) {
        if (c->mode != MODE_REAL)
            return ld32le(in) == c->seg[gdb_seg_order[n - GDB_SEGS]].selector;
        cpu_set_segment_real(c, gdb_seg_order[n - GDB_SEGS], ld16le(in));
    } else if (n >= GDB_ST && n < GDB_FCTRL) {
        struct x87_reg *r = &c->x87[(c->x87_top + n - GDB_ST) & 7];
        r->mant = ld64le(in);
        r->exp = ld16le(in + 8);
    } else if (n >= GDB_XMM && n < GDB_MXCSR) {
        c->xmm[n - GDB_XMM].q[0] = ld64le(in);
        c->xmm[n - GDB_XMM].q[1] = ld64le(in + 8);
    } else if (n == GDB_MXCSR) {
        c->mxcsr = ld32le(in) & 0xFFFF;
    } else if (n == GDB_FS_BASE || n == GDB_GS_BASE) {
        c->seg[n == GDB_FS_BASE ? SEG_FS : SEG_GS].base = ld64le(in);
        cpu_update_mode(c);
    } else if (n == GDB_CR2) {
        c->cr2 = ld64le(in);
    } else {
        return false;
    }
    return true;
}

/* ---- stops ---- */

static struct cpu *gdb_cpu(struct gdbstub *g) { return g->emu->cpus[g->cpu < g->emu->cpu_count ? g->cpu : 0]; }

static void gdb_report_stop(struct gdbstub *g, unsigned signal, const char *extra)
{
    char text[96];
    snprintf(text, sizeof text, "T%02xthread:%02x;%s", signal, g->cpu + 1, extra);
    g->running = false;
    gdb_send(g, text);
}

/* That CPU c stopped, at the watchpoint it touched if it did. */
static void gdb_report_trap(struct gdbstub *g, struct cpu *c, bool watchpoint)
{
    char extra[48] = "";
    const char *kind = "watch";
    unsigned i;
    g->cpu = c->index;
    for (i = 0; watchpoint && i < g->point_count; i++)
        if (g->points[i].kind && c->watch_va >= g->points[i].va && c->watch_va - g->points[i].va < g->points[i].size)
            kind = g->points[i].kind == 1 ? "watch" : g->points[i].kind == 2 ? "rwatch" : "awatch";
    if (watchpoint)
        snprintf(extra, sizeof extra, "%s:%" PRIx64 ";", kind, c->watch_va);
    gdb_report_stop(g, GDB_SIGTRAP, extra);
}

static void gdb_on_break(struct emu *e, struct cpu *c, int why)
{
    struct gdbstub *g = front_of(e)->gdbstub;
    if (g && g->running)
        gdb_report_trap(g, c, why == CPU_EXIT_WATCHPOINT);
}

static void gdb_on_run_state(struct emu *e, enum run_state state)
{
    struct gdbstub *g = front_of(e)->gdbstub;
    if (g && g->running && state == RUN_STATE_PAUSED && !e->on_break_pending)
        gdb_report_stop(g, GDB_SIGINT, "");
}

static void gdb_continue(struct gdbstub *g)
{
    g->running = true;
    machine_resume(g->emu);
}

static void gdb_step(struct gdbstub *g)
{
    struct cpu *c = gdb_cpu(g);
    gdb_report_trap(g, c, machine_step(g->emu, c)); /* GDB steps over a breakpoint before it continues */
}

/* ---- packets ---- */

static void gdb_read_registers(struct gdbstub *g)
{
    struct buf b;
    uint8_t bytes[16];
    unsigned n, size;
    buf_init(&b, g->emu);
    for (n = 0; (size = gdb_register(gdb_cpu(g), n, bytes)); n++)
        gdb_hex(&b, bytes, size);
    gdb_send(g, b.failed ? "E01" : (char *)b.data);
    buf_free(&b);
}

static void gdb_write_registers(struct gdbstub *g, const char *p)
{
    uint8_t bytes[16];
    unsigned n, size;
    for (n = 0; n < GDB_REGISTERS && *p; n++) {
        size = gdb_register(gdb_cpu(g), n, bytes);
        if (gdb_unhex(p, bytes, size) != size)
            break;
        (void)gdb_set_register(gdb_cpu(g), n, bytes); /* GDB writes all back at once, changed or not */
        p += 2 * size;
    }
    gdb_send(g, "OK");
}

static void gdb_memory(struct gdbstub *g, const char *p)
{
    bool write = p[0] == 'M';
    uint8_t bytes[GDB_PACKET_MAX / 2];
    uint64_t va, size;
    p++;
    va = gdb_number(&p);
    if (*p++ != ',') {
        gdb_send(g, "E22");
        return;
    }
    size = gdb_number(&p);
    if (size > sizeof bytes - 64)
        size = sizeof bytes - 64;
    if (write) {
        if (*p++ != ':' || gdb_unhex(p, bytes, (size_t)size) != size || !cpu_debug_write(gdb_cpu(g), va, bytes, (size_t)size))
            gdb_send(g, "E14");
        else
            gdb_send(g, "OK");
        return;
    }
    while (size && !cpu_debug_read(gdb_cpu(g), va, bytes, (size_t)size)) /* as much as is mapped */
        size = size > 4096 - (va & 4095) && (va & 4095) + size > 4096 ? 4096 - (va & 4095) : 0;
    if (!size) {
        gdb_send(g, "E14");
    } else {
        struct buf b;
        buf_init(&b, g->emu);
        gdb_hex(&b, bytes, (size_t)size);
        gdb_send(g, b.failed ? "E01" : (char *)b.data);
        buf_free(&b);
    }
}

/* Z/z type,address,kind: 0, 1 execution; 2 write; 3 read; 4 access. */
static void gdb_point(struct gdbstub *g, const char *p)
{
    bool on = p[0] == 'Z';
    struct breakpoint b;
    unsigned type = (unsigned)(p[1] - '0'), i;
    if (type > 4 || p[2] != ',') {
        gdb_send(g, "");
        return;
    }
    p += 3;
    b.va = gdb_number(&p);
    b.size = *p == ',' ? (p++, gdb_number(&p)) : 1;
    b.kind = (uint8_t)(type < 2 ? 0 : type - 1);
    if (b.size < 1 || b.size > 4096)
        b.size = 1;
    for (i = 0; i < g->point_count; i++)
        if (g->points[i].va == b.va && g->points[i].kind == b.kind && (!b.kind || g->points[i].size == b.size))
            break;
    if (on && i == g->point_count) {
        if (i == GDB_BREAKPOINTS || cpu_breakpoint_set(g->emu, &b, true)) {
            gdb_send(g, "E28");
            return;
        }
        g->points[g->point_count++] = b;
    } else if (!on && i < g->point_count) {
        cpu_breakpoint_set(g->emu, &g->points[i], false);
        g->points[i] = g->points[--g->point_count];
    }
    gdb_send(g, "OK");
}

static void gdb_xfer(struct gdbstub *g, const char *p)
{
    uint64_t offset = gdb_number(&p), size;
    struct buf xml;
    size_t i;
    if (*p++ != ',') {
        gdb_send(g, "E22");
        return;
    }
    size = gdb_number(&p);
    buf_init(&xml, g->emu);
    buf_add(&xml, "m", 1);
    for (i = 0; i < EMU_ARRAY_LEN(gdb_target_parts); i++)
        buf_add(&xml, gdb_target_parts[i], strlen(gdb_target_parts[i]));
    if (xml.failed) {
        gdb_send(g, "E12");
    } else {
        uint64_t left = xml.size - 1;
        offset = EMU_MIN(offset, left);
        size = EMU_MIN(EMU_MIN(size, left - offset), (uint64_t)GDB_PACKET_MAX / 2);
        xml.data[offset] = offset + size == left ? 'l' : 'm'; /* overwrites the byte before: it was sent already */
        gdb_send_bytes(g, (char *)xml.data + offset, (size_t)size + 1);
    }
    buf_free(&xml);
}

static void gdb_monitor(struct gdbstub *g, const char *hex)
{
    char line[512];
    struct buf out, reply;
    line[gdb_unhex(hex, (uint8_t *)line, sizeof line - 1)] = 0;
    buf_init(&out, g->emu);
    buf_init(&reply, g->emu);
    monitor_command(g->emu, line, &out);
    if (out.size)
        gdb_hex(&reply, out.data, out.size);
    gdb_send(g, reply.size && !reply.failed ? (char *)reply.data : "OK");
    buf_free(&out);
    buf_free(&reply);
}

static void gdb_query(struct gdbstub *g, const char *p)
{
    if (!strncmp(p, "qSupported", 10)) {
        char text[128];
        snprintf(text, sizeof text, "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+", GDB_PACKET_MAX);
        gdb_send(g, text);
    } else if (!strncmp(p, "qXfer:features:read:target.xml:", 31)) {
        gdb_xfer(g, p + 31);
    } else if (!strcmp(p, "qfThreadInfo")) {
        struct buf b;
        unsigned i;
        buf_init(&b, g->emu);
        for (i = 0; i < g->emu->cpu_count; i++)
            buf_printf(&b, "%c%02x", i ? ',' : 'm', i + 1);
        gdb_send(g, b.failed ? "E01" : (char *)b.data);
        buf_free(&b);
    } else if (!strcmp(p, "qsThreadInfo")) {
        gdb_send(g, "l");
    } else if (!strncmp(p, "qThreadExtraInfo,", 17)) {
        struct buf b;
        char text[32];
        const char *q = p + 17;
        uint64_t id = gdb_number(&q);
        snprintf(text, sizeof text, "CPU#%u%s", (unsigned)(id - 1), id >= 1 && id <= g->emu->cpu_count && g->emu->cpus[id - 1]->halted ? " [halted]" : "");
        buf_init(&b, g->emu);
        gdb_hex(&b, text, strlen(text));
        gdb_send(g, b.failed ? "E01" : (char *)b.data);
        buf_free(&b);
    } else if (!strcmp(p, "qC")) {
        char text[16];
        snprintf(text, sizeof text, "QC%02x", g->cpu + 1);
        gdb_send(g, text);
    } else if (!strncmp(p, "qAttached", 9)) {
        gdb_send(g, "1");
    } else if (!strncmp(p, "qRcmd,", 6)) {
        gdb_monitor(g, p + 6);
    } else {
        gdb_send(g, "");
    }
}

static void gdb_clear_points(struct gdbstub *g)
{
    while (g->point_count)
        cpu_breakpoint_set(g->emu, &g->points[--g->point_count], false);
}

static void gdb_vcont(struct gdbstub *g, const char *p)
{
    if (*p == '?') {
        gdb_send(g, "vCont;c;C;s;S");
        return;
    }
    for (; *p == ';'; p += strcspn(p, ";")) { /* the first step wins; else continue */
        p++;
        if (*p == 's' || *p == 'S') {
            const char *q = strchr(p, ':');
            if (q && q < p + strcspn(p, ";")) {
                q++;
                g->cpu = (unsigned)(gdb_number(&q) - 1) % g->emu->cpu_count;
            }
            gdb_step(g);
            return;
        }
    }
    gdb_continue(g);
}

static void gdb_run_packet(struct gdbstub *g)
{
    const char *p = g->packet;
    uint8_t bytes[16];
    unsigned n, size;
    switch (p[0]) {
    case '?': gdb_report_stop(g, GDB_SIGTRAP, ""); break;
    case 'g': gdb_read_registers(g); break;
    case 'G': gdb_write_registers(g, p + 1); break;
    case 'p':
    case 'P': {
        const char *q = p + 1;
        struct buf b;
        n = (unsigned)gdb_number(&q);
        size = gdb_register(gdb_cpu(g), n, bytes);
        if (!size) {
            gdb_send(g, "E14");
        } else if (p[0] == 'P') {
            if (*q == '=' && gdb_unhex(q + 1, bytes, size) == size && gdb_set_register(gdb_cpu(g), n, bytes))
                gdb_send(g, "OK");
            else
                gdb_send(g, "E22");
        } else {
            buf_init(&b, g->emu);
            gdb_hex(&b, bytes, size);
            gdb_send(g, b.failed ? "E01" : (char *)b.data);
            buf_free(&b);
        }
        break;
    }
    case 'm':
    case 'M': gdb_memory(g, p); break;
    case 'c':
        if (p[1]) {
            p++;
            gdb_cpu(g)->rip = gdb_number(&p);
        }
        gdb_continue(g);
        break;
    case 'C': gdb_continue(g); break;
    case 's':
        if (p[1]) {
            p++;
            gdb_cpu(g)->rip = gdb_number(&p);
        }
        gdb_step(g);
        break;
    case 'S': gdb_step(g); break;
    case 'Z':
    case 'z': gdb_point(g, p); break;
    case 'H':
        if (p[1] == 'g' && p[2] != '-' && p[2] != '0') {
            const char *q = p + 2;
            uint64_t id = gdb_number(&q);
            if (id < 1 || id > g->emu->cpu_count) {
                gdb_send(g, "E22");
                break;
            }
            g->cpu = (unsigned)id - 1;
        }
        gdb_send(g, "OK");
        break;
    case 'T': {
        const char *q = p + 1;
        uint64_t id = gdb_number(&q);
        gdb_send(g, id >= 1 && id <= g->emu->cpu_count ? "OK" : "E22");
        break;
    }
    case 'D':
        gdb_clear_points(g);
        gdb_send(g, "OK");
        g->running = false;
        machine_resume(g->emu);
        break;
    case 'k':
        g->emu->exit_status = 0;
        emu_request(g->emu, REQ_EXIT);
        break;
    case 'q': gdb_query(g, p); break;
    case 'Q':
        if (!strcmp(p, "QStartNoAckMode")) {
            gdb_send(g, "OK");
            g->no_ack = true;
        } else {
            gdb_send(g, "");
        }
        break;
    case 'v':
        if (!strncmp(p, "vCont", 5)) {
            gdb_vcont(g, p + 5);
        } else if (!strncmp(p, "vKill", 5)) {
            gdb_send(g, "OK");
            g->emu->exit_status = 0;
            emu_request(g->emu, REQ_EXIT);
        } else {
            gdb_send(g, "");
        }
        break;
    default: gdb_send(g, ""); break;
    }
}

static void gdb_byte(struct gdbstub *g, uint8_t ch)
{
    switch (g->state) {
    case GDB_IDLE:
        if (ch == '$') {
            g->state = GDB_PACKET;
            g->length = 0;
            g->sum = 0;
        } else if (ch == 3 && g->running) {
            machine_pause(g->emu); /* gdb_on_run_state() reports it */
        }
        break;
    case GDB_PACKET:
    case GDB_ESCAPE:
        if (ch == '#' && g->state == GDB_PACKET) {
            g->state = GDB_SUM1;
            break;
        }
        g->sum = (uint8_t)(g->sum + ch);
        if (ch == '}' && g->state == GDB_PACKET) {
            g->state = GDB_ESCAPE;
            break;
        }
        if (g->length < GDB_PACKET_MAX)
            g->packet[g->length++] = (char)(g->state == GDB_ESCAPE ? ch ^ 0x20 : ch);
        g->state = GDB_PACKET;
        break;
    case GDB_SUM1:
        g->told_sum = (uint8_t)((unsigned)gdb_digit((char)ch) << 4);
        g->state = GDB_SUM2;
        break;
    case GDB_SUM2:
        g->told_sum |= (uint8_t)gdb_digit((char)ch);
        g->state = GDB_IDLE;
        g->packet[g->length] = 0;
        if (!g->no_ack)
            buf_add(&g->out, g->told_sum == g->sum ? "+" : "-", 1);
        if (g->told_sum == g->sum || g->no_ack)
            gdb_run_packet(g);
        gdb_flush(g);
        break;
    }
}

static void gdb_free(struct gdbstub *g)
{
    g->chr->can_receive = NULL;
    g->chr->receive = NULL;
    g->chr->event = NULL;
    g->chr->writable = NULL;
    if (!g->ended) /* else its line is just delivering: it stays, without a user */
        chr_close(g->chr);
    buf_free(&g->out);
    emu_free(g->emu, g);
}

static size_t gdb_can_receive(void *opaque)
{
    const struct gdbstub *g = opaque;
    return g->out.size > GDB_OUT_MAX ? 0 : 4096;
}
static void gdb_receive(void *opaque, const uint8_t *bytes, size_t size)
{
    struct gdbstub *g = opaque;
    g->busy = true;
    while (size-- && !g->ended)
        gdb_byte(g, *bytes++);
    g->busy = false;
    if (g->ended)
        gdb_free(g);
}
static void gdb_event(void *opaque, enum chr_event event)
{
    struct gdbstub *g = opaque;
    if (event == CHR_OPENED) {
        g->state = GDB_IDLE;
        g->no_ack = false;
        g->running = false;
        g->cpu = 0;
        machine_pause(g->emu);
    } else if (event == CHR_CLOSED) {
        gdb_clear_points(g);
        g->out.size = 0;
        g->running = false;
    }
}
static void gdb_writable(void *opaque)
{
    struct gdbstub *g = opaque;
    gdb_flush(g);
    if (gdb_can_receive(g))
        chr_accept_input(g->chr);
}

EMU_PRIV int gdb_create(struct emu *e, const char *device, struct err *err)
{
    struct gdbstub *g;
    char spec[256], id[16];
    if (!strncmp(device, "tcp:", 4) || !strncmp(device, "unix:", 5))
        snprintf(spec, sizeof spec, "%s%s", device, strstr(device, "server") ? "" : ",server=on,wait=off");
    else
        snprintf(spec, sizeof spec, "%s", device);
    g = emu_alloc(e, sizeof *g);
    if (!g)
        return err_set(err, EMU_ENOMEM, "out of memory");
    g->emu = e;
    buf_init(&g->out, e);
    snprintf(id, sizeof id, "gdb%u", e->gdb_count++);
    g->chr = chr_open(e, id, spec, err);
    if (!g->chr) {
        emu_free(e, g);
        return err_prefix(err, EMU_EINVAL, "-gdb %s", device);
    }
    front_of(e)->gdbstub = g;
    e->on_break = gdb_on_break;
    e->on_run_state = gdb_on_run_state;
    g->chr->can_receive = gdb_can_receive;
    g->chr->receive = gdb_receive;
    g->chr->event = gdb_event;
    g->chr->writable = gdb_writable;
    g->chr->opaque = g;
    g->chr->in_use = true;
    if (g->chr->open && !strcmp(device, "stdio"))
        gdb_event(g, CHR_OPENED);
    chr_accept_input(g->chr);
    return 0;
}

EMU_PRIV void gdb_destroy(struct emu *e)
{
    struct gdbstub *g = front_of(e)->gdbstub;
    if (!g)
        return;
    gdb_clear_points(g);
    e->on_break = NULL;
    e->on_run_state = NULL;
    front_of(e)->gdbstub = NULL;
    if (g->busy)
        g->ended = true;
    else
        gdb_free(g);
}
#undef GDB_PACKET_MAX
#undef GDB_BREAKPOINTS
#undef GDB_SIGINT
#undef GDB_SIGTRAP
#undef GDB_OUT_MAX
