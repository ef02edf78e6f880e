/* cpu/disasm.c - struct insn as text, Intel syntax.
 *
 * Contract   For the monitor's x/i and -d in_asm. Mnemonics come from the rows; operand sizes are shown by register names and PTR words.
 * Invariants 1. Never writes more than size bytes; the text always ends in 0.
 * Missing    Aliases (cmpltps, xchg-as-nop) and prefixes without effect.
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

struct disasm_out {
    char *buf;
    size_t size, used;
};

static void disasm_put(struct disasm_out *o, const char *fmt, ...) EMU_PRINTF(2, 3);
static void disasm_put(struct disasm_out *o, const char *fmt, ...)
{
    va_list ap;
    int n;
    if (o->used >= o->size)
        return;
    va_start(ap, fmt);
    n = vsnprintf(o->buf + o->used, o->size - o->used, fmt, ap);
    va_end(ap);
    if (n > 0)
        o->used += (size_t)n;
}

static const char *disasm_reg(unsigned r, unsigned size, bool rex, char *text, size_t n)
{
    static const char *const low[8] = { "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil" };
    static const char *const high[4] = { "ah", "ch", "dh", "bh" };
    static const char *const word[8] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
    if (r >= 8)
        snprintf(text, n, "r%u%s", r, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
    else if (size == 1)
        snprintf(text, n, "%s", r >= 4 && !rex ? high[r - 4] : low[r]);
    else
        snprintf(text, n, "%s%s", size == 8 ? "r" : size == 4 ? "e" : "", word[r]);
    return text;
}

static const char *const disasm_segs[6] = { "es", "cs", "ss", "ds", "fs", "gs" };

static void disasm_memory(struct disasm_out *o, const struct insn *i, unsigned size, uint64_t rip)
{
    char t[8];
    const char *plus = "";
    disasm_put(o, "%s", size == 1 ? "byte ptr " : size == 2 ? "word ptr " : size == 4 ? "dword ptr " : size == 8 ? "qword ptr " : size == 16 ? "xmmword ptr " : "");
    if (i->prefixes & INSN_SEG)
        disasm_put(o, "%s:", disasm_segs[i->seg < 6 ? i->seg : 3]);
    disasm_put(o, "[");
    if (i->rip_relative) {
        disasm_put(o, "0x%" PRIx64 "]", rip + i->length + (uint64_t)i->disp);
        return;
    }
    if (i->base != GPR_ZERO) {
        disasm_put(o, "%s", disasm_reg(i->base, i->addrsize, true, t, sizeof t));
        plus = "+";
    }
    if (i->index != GPR_ZERO) {
        disasm_put(o, "%s%s*%u", plus, disasm_reg(i->index, i->addrsize, true, t, sizeof t), 1u << i->scale);
        plus = "+";
    }
    if (i->disp || !*plus) {
        if (*plus && i->disp < 0)
            disasm_put(o, "-0x%" PRIx64, 0 - (uint64_t)i->disp);
        else
            disasm_put(o, "%s0x%" PRIx64, plus, (uint64_t)i->disp & (i->addrsize == 8 ? UINT64_MAX : i->addrsize == 4 ? 0xFFFFFFFFu : 0xFFFFu));
    }
    disasm_put(o, "]");
}

static void disasm_operand(struct disasm_out *o, const struct insn *i, unsigned n, uint64_t rip)
{
    char t[8];
    unsigned kind = i->row->opnd[n], size = interp_size(i, n);
    switch (kind) {
    case OPND_Ib: case OPND_Ibs: case OPND_Iw: case OPND_Iz: case OPND_Iv:
        disasm_put(o, "0x%" PRIx64, n > 0 && i->row->opnd[n - 1] == OPND_Iw ? (uint64_t)i->imm2 : i->imm);
        return;
    case OPND_1: disasm_put(o, "1"); return;
    case OPND_Jb: case OPND_Jz: {
        uint64_t target = rip + i->length + i->imm;
        disasm_put(o, "0x%" PRIx64, i->opsize == 8 ? target : i->opsize == 4 ? (uint32_t)target : (uint16_t)target);
        return;
    }
    case OPND_Ap: disasm_put(o, "0x%x:0x%" PRIx64, i->imm2, i->imm); return;
    case OPND_Sw: disasm_put(o, "%s", disasm_segs[(i->reg & 7) < 6 ? i->reg & 7 : 3]); return;
    case OPND_Cd: disasm_put(o, "cr%u", i->reg); return;
    case OPND_Dd: disasm_put(o, "dr%u", i->reg); return;
    case OPND_ES: case OPND_CS: case OPND_SS: case OPND_DS: case OPND_FS: case OPND_GS: disasm_put(o, "%s", disasm_segs[kind - OPND_ES]); return;
    case OPND_Xb: case OPND_Xv: disasm_put(o, "%s ptr %s:[%s]", size == 1 ? "byte" : size == 2 ? "word" : size == 4 ? "dword" : "qword", disasm_segs[i->seg < 6 ? i->seg : 3], disasm_reg(GPR_RSI, i->addrsize, true, t, sizeof t)); return;
    case OPND_Yb: case OPND_Yv: disasm_put(o, "%s ptr es:[%s]", size == 1 ? "byte" : size == 2 ? "word" : size == 4 ? "dword" : "qword", disasm_reg(GPR_RDI, i->addrsize, true, t, sizeof t)); return;
    case OPND_ST0: disasm_put(o, "st"); return;
    case OPND_STi: disasm_put(o, "st(%u)", i->modrm & 7); return;
    case OPND_XMM0: disasm_put(o, "xmm0"); return;
    case OPND_Vx: disasm_put(o, "xmm%u", i->reg); return;
    case OPND_Hx: disasm_put(o, "xmm%u", i->vvvv); return;
    case OPND_Lx: disasm_put(o, "xmm%u", (unsigned)(i->imm >> 4)); return;
    case OPND_Ux: disasm_put(o, "xmm%u", i->rm); return;
    case OPND_Pq: disasm_put(o, "mm%u", i->reg & 7); return;
    case OPND_Nq: disasm_put(o, "mm%u", i->rm & 7); return;
    case OPND_Wx: case OPND_Wq: case OPND_Wd: case OPND_Ww: case OPND_Wb:
        if (i->memory)
            disasm_memory(o, i, kind == OPND_Wx ? 16 : kind == OPND_Wq ? 8 : kind == OPND_Wd ? 4 : kind == OPND_Ww ? 2 : 1, rip);
        else
            disasm_put(o, "xmm%u", i->rm);
        return;
    case OPND_Qq: case OPND_Qd:
        if (i->memory)
            disasm_memory(o, i, kind == OPND_Qq ? 8 : 4, rip);
        else
            disasm_put(o, "mm%u", i->rm & 7);
        return;
    case OPND_M: case OPND_Mp: case OPND_Ms: case OPND_Mt: disasm_memory(o, i, 0, rip); return;
    case OPND_Mdq: disasm_memory(o, i, 16, rip); return;
    case OPND_Gb: case OPND_Gw: case OPND_Gv: case OPND_Gd: case OPND_Gy: case OPND_Gq: disasm_put(o, "%s", disasm_reg(i->reg, size, i->rex != 0, t, sizeof t)); return;
    case OPND_AL: case OPND_AX: case OPND_eAX: disasm_put(o, "%s", disasm_reg(GPR_RAX, size, true, t, sizeof t)); return;
    case OPND_CL: disasm_put(o, "cl"); return;
    case OPND_DX: disasm_put(o, "dx"); return;
    default:
        if (i->memory && kind != OPND_Zb && kind != OPND_Zv && kind != OPND_Zq && kind != OPND_Rd && kind != OPND_Ry && kind != OPND_Rv)
            disasm_memory(o, i, size, rip);
        else
            disasm_put(o, "%s", disasm_reg(i->rm, size, i->rex != 0, t, sizeof t));
        return;
    }
}

EMU_PRIV void cpu_disassemble(const struct insn *i, uint64_t rip, char *buf, size_t size)
{
    struct disasm_out o;
    unsigned n;
    if (!size)
        return;
    o.buf = buf;
    o.size = size;
    o.used = 0;
    buf[0] = 0;
    if (i->prefixes & INSN_LOCK)
        disasm_put(&o, "lock ");
    if ((i->row->attr & ROW_REP) && (i->prefixes & (INSN_REP | INSN_REPNE)))
        disasm_put(&o, i->prefixes & INSN_REP ? "rep " : "repne ");
    disasm_put(&o, "%s", i->row->name);
    for (n = 0; n < 4 && i->row->opnd[n]; n++) {
        disasm_put(&o, n ? ", " : " ");
        disasm_operand(&o, i, n, rip);
    }
}
