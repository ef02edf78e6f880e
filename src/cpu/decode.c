/* cpu/decode.c - from bytes to struct insn.
 *
 * Models     Instruction format: SDM vol. 2A chapter 2; opcode map: 2D appendix A.
 * Contract   cpu_decode() is asked by the trace builder and the debugger; it changes no state of the CPU. Rows come from table.c, system.c and
 *            the floating-point files. insn_address(), insn_load_rm(), insn_store_rm() serve plain-C instructions.
 * Theory     Rows are indexed by map and opcode when the machine is created. An opcode's candidates are tried in the order of the tables; the
 *            first whose prefixes, mode, ModRM and CPUID feature fit is taken, so that TZCNT falls back to BSF where there is no BMI1.
 * Invariants 1. No byte beyond `size` is read; a length over 15 is #GP(0) before anything else is said about the instruction.
 *            2. All rows of an opcode agree about whether a ModRM byte follows (checked when the index is built).
 */
#include "../machine.h"
#include "cpu.h"

struct decode_index {
    const struct insn_row **rows;
    uint16_t start[4][257]; /* rows[start[m][op] .. start[m][op + 1]) */
    uint8_t has_modrm[4][256];
};

enum { DECODE_MAX_LENGTH = 15 /* SDM 2A §2.3.11 */ };

static bool decode_operand_has_modrm(unsigned kind)
{
    switch (kind) {
    case OPND_NONE: case OPND_Ib: case OPND_Ibs: case OPND_Iw: case OPND_Iz: case OPND_Iv: case OPND_Jb: case OPND_Jz: case OPND_Ap:
    case OPND_Ob: case OPND_Ov: case OPND_Zb: case OPND_Zv: case OPND_Zq: case OPND_AL: case OPND_AX: case OPND_eAX: case OPND_CL:
    case OPND_DX: case OPND_1: case OPND_ES: case OPND_CS: case OPND_SS: case OPND_DS: case OPND_FS: case OPND_GS: case OPND_Xb:
    case OPND_Xv: case OPND_Yb: case OPND_Yv: case OPND_ST0: case OPND_XMM0: case OPND_Hx: case OPND_Lx: return false;
    default: return true;
    }
}

static bool decode_row_has_modrm(const struct insn_row *r)
{
    unsigned i;
    if (r->enc & (SLASH_MASK | MOD_MASK | RM_MASK | HAS_MODRM))
        return true;
    if (ENC_MAP(r->enc) == 0 && (r->enc & 0xF8) == 0xD8)
        return true;
    for (i = 0; i < 4; i++)
        if (decode_operand_has_modrm(r->opnd[i]))
            return true;
    return false;
}

EMU_PRIV int cpu_decode_create(struct emu *e)
{
    const struct insn_row *tables[7];
    struct decode_index *x;
    unsigned t, m, op, n;
    size_t count = 0;
    const struct insn_row *r;
    if (e->decode)
        return 0;
    tables[0] = cpu_rows_int();
    tables[1] = cpu_rows_system();
    tables[2] = cpu_rows_x87();
    tables[3] = cpu_rows_mmx();
    tables[4] = cpu_rows_sse();
    tables[5] = cpu_rows_sse4();
    tables[6] = cpu_rows_crypto();
    for (t = 0; t < EMU_ARRAY_LEN(tables); t++)
        for (r = tables[t]; r->name; r++)
            count += r->enc & OPREG ? 8 : 1;
    x = emu_alloc(e, sizeof *x);
    if (!x)
        return EMU_ENOMEM;
    x->rows = emu_alloc(e, count * sizeof *x->rows);
    if (!x->rows) {
        emu_free(e, x);
        return EMU_ENOMEM;
    }
    n = 0;
    for (m = 0; m < 4; m++) {
        for (op = 0; op < 256; op++) {
            x->start[m][op] = (uint16_t)n;
            for (t = 0; t < EMU_ARRAY_LEN(tables); t++)
                for (r = tables[t]; r->name; r++) {
                    unsigned base = r->enc & 0xFF;
                    if (ENC_MAP(r->enc) != m || !(r->enc & OPREG ? op >= base && op < base + 8 : op == base))
                        continue;
                    if (decode_row_has_modrm(r))
                        x->has_modrm[m][op] = 1;
                    x->rows[n++] = r;
                }
        }
        x->start[m][256] = (uint16_t)n;
    }
    e->decode = x;
    return 0;
}

EMU_PRIV void cpu_decode_destroy(struct emu *e)
{
    if (e->decode) {
        emu_free(e, e->decode->rows);
        emu_free(e, e->decode);
        e->decode = NULL;
    }
}

struct decode_cursor {
    const uint8_t *bytes;
    unsigned at, size;
    bool short_of; /* ran out of bytes */
    bool too_long;
};

static uint8_t decode_byte(struct decode_cursor *d)
{
    if (d->at >= DECODE_MAX_LENGTH) {
        d->too_long = true;
        return 0;
    }
    if (d->at >= d->size) {
        d->short_of = true;
        return 0;
    }
    return d->bytes[d->at++];
}

static uint64_t decode_value(struct decode_cursor *d, unsigned size)
{
    uint64_t v = 0;
    unsigned i;
    for (i = 0; i < size; i++)
        v |= (uint64_t)decode_byte(d) << (8 * i);
    return v;
}

/* 16-bit addressing forms: SDM 2A table 2-1. */
static void decode_modrm16(struct decode_cursor *d, struct insn *o, unsigned mod, unsigned rm)
{
    static const uint8_t bases[8] = { GPR_RBX, GPR_RBX, GPR_RBP, GPR_RBP, GPR_RSI, GPR_RDI, GPR_RBP, GPR_RBX };
    static const uint8_t indexes[8] = { GPR_RSI, GPR_RDI, GPR_RSI, GPR_RDI, GPR_ZERO, GPR_ZERO, GPR_ZERO, GPR_ZERO };
    o->base = bases[rm];
    o->index = indexes[rm];
    if (mod == 0 && rm == 6) {
        o->base = GPR_ZERO;
        o->disp = (int64_t)decode_value(d, 2);
    } else if (mod == 1) {
        o->disp = sext64(decode_value(d, 1), 8);
    } else if (mod == 2) {
        o->disp = sext64(decode_value(d, 2), 16);
    }
}

static void decode_modrm32(struct decode_cursor *d, struct insn *o, unsigned mod, unsigned rm, bool long_mode)
{
    if (rm == 4) { /* SIB: table 2-3 */
        unsigned sib = decode_byte(d);
        unsigned index = ((sib >> 3) & 7) | (o->rex & 2 ? 8u : 0u), base = (sib & 7) | (o->rex & 1 ? 8u : 0u);
        o->scale = (uint8_t)(sib >> 6);
        o->index = (uint8_t)(index == 4 ? GPR_ZERO : index);
        if (index == 4)
            o->scale = 0;
        if ((sib & 7) == 5 && mod == 0) {
            o->base = GPR_ZERO;
            o->disp = sext64(decode_value(d, 4), 32);
        } else {
            o->base = (uint8_t)base;
        }
    } else if (rm == 5 && mod == 0) {
        o->base = GPR_ZERO;
        o->rip_relative = long_mode;
        o->disp = sext64(decode_value(d, 4), 32);
    } else {
        o->base = (uint8_t)(rm | (o->rex & 1 ? 8u : 0u));
    }
    if (mod == 1)
        o->disp = sext64(decode_value(d, 1), 8);
    else if (mod == 2)
        o->disp = sext64(decode_value(d, 4), 32);
}

static bool decode_row_fits(const struct cpu *c, const struct insn_row *r, const struct insn *o, bool long_mode)
{
    uint32_t enc = r->enc, pfx = enc & PFX_MASK;
    bool has_66 = (o->prefixes & INSN_OPSIZE) != 0, has_f3 = (o->prefixes & INSN_REP) != 0, has_f2 = (o->prefixes & INSN_REPNE) != 0;
    if ((enc & MODE_MASK) == MODE64 ? !long_mode : (enc & MODE_MASK) == NOT64 && long_mode)
        return false;
    if (pfx == PFX_NP ? has_66 || has_f3 || has_f2 : pfx == PFX_66 ? !has_66 || has_f3 || has_f2 : pfx == PFX_F3 ? !has_f3 : pfx == PFX_F2 && !has_f2)
        return false;
    if ((enc & SLASH_MASK) && ((enc & SLASH_MASK) >> 13) - 1 != ((o->modrm >> 3) & 7u))
        return false;
    if ((enc & MOD_MASK) && ((enc & MOD_MASK) == MOD_REG) != (o->modrm >= 0xC0))
        return false;
    if ((enc & RM_MASK) && ((enc & RM_MASK) >> 19) - 1 != (o->modrm & 7u))
        return false;
    if ((enc & W_MASK) && ((enc & W_MASK) == W1) != ((o->rex & 8) != 0))
        return false;
    if (((enc & VEX_MASK) != 0) != (o->vex != 0))
        return false;
    return cpu_has(c, (enum cpu_feature)r->needs);
}

static void decode_immediates(struct decode_cursor *d, struct insn *o, bool long_mode)
{
    unsigned i;
    for (i = 0; i < 4; i++) {
        unsigned size = o->opsize == 2 ? 2 : 4;
        switch (o->row->opnd[i]) {
        case OPND_Ib: {
            uint8_t v = decode_byte(d);
            if (i > 0 && o->row->opnd[i - 1] == OPND_Iw)
                o->imm2 = v; /* ENTER Iw, Ib */
            else
                o->imm = v;
            break;
        }
        case OPND_Lx: o->imm = decode_byte(d); break;
        case OPND_Ibs: case OPND_Jb: o->imm = (uint64_t)sext64(decode_byte(d), 8); break;
        case OPND_Iw: o->imm = decode_value(d, 2); break;
        case OPND_Iz: o->imm = (uint64_t)sext64(decode_value(d, size), size * 8); break;
        case OPND_Iv: o->imm = decode_value(d, o->opsize); break;
        case OPND_Jz: /* 66 is ignored by near branches in 64-bit mode: opsize is 8 there */
            o->imm = (uint64_t)sext64(decode_value(d, size), size * 8);
            break;
        case OPND_Ap:
            o->imm = decode_value(d, size);
            o->imm2 = (uint16_t)decode_value(d, 2);
            break;
        case OPND_Ob: case OPND_Ov:
            o->disp = (int64_t)decode_value(d, o->addrsize);
            o->base = o->index = GPR_ZERO;
            o->memory = true;
            break;
        default: break;
        }
    }
    (void)long_mode;
}

/* A VEX prefix (C4, C5); the map number, or 0 if it is malformed. SDM 2A §2.3.5. */
static unsigned decode_vex(struct decode_cursor *d, struct insn *o, bool two_bytes)
{
    unsigned b = decode_byte(d), map = 1, last;
    bool bad = o->rex || (o->prefixes & (INSN_LOCK | INSN_REP | INSN_REPNE | INSN_OPSIZE));
    static const uint8_t prefixes[4] = { 0, INSN_OPSIZE, INSN_REP, INSN_REPNE };
    o->rex = (uint8_t)(0x40 | (b & 0x80 ? 0 : 4));
    last = b;
    if (!two_bytes) {
        o->rex = (uint8_t)(o->rex | (b & 0x40 ? 0 : 2) | (b & 0x20 ? 0 : 1));
        map = (b & 31) <= 3 ? b & 31 : 0;
        last = decode_byte(d);
        if (last & 0x80)
            o->rex |= 8;
    }
    o->vvvv = (uint8_t)(~(last >> 3) & 15);
    o->vex = last & 4 ? 32 : 16;
    o->prefixes |= prefixes[last & 3];
    return bad ? 0 : map;
}

EMU_PRIV int cpu_decode(const struct cpu *c, uint32_t mode_key, const uint8_t *bytes, unsigned size, struct insn *o)
{
    const struct decode_index *x = c->emu->decode;
    struct decode_cursor d;
    bool long_mode = (mode_key & KEY_CS_SIZE) == KEY_CS64, seg_given = false, size_prefix;
    unsigned op, map = 0, mod = 0, rm = 0, i, first, end;
    const struct insn_row *row = NULL;
    memset(o, 0, sizeof *o);
    d.bytes = bytes;
    d.at = 0;
    d.size = size;
    d.short_of = d.too_long = false;
    o->base = o->index = GPR_ZERO;
    for (;;) { /* legacy prefixes in any order, REX last: SDM 2A §2.1.1, §2.2.1 */
        op = decode_byte(&d);
        if (d.short_of || d.too_long)
            goto incomplete;
        switch (op) {
        case 0xF0: o->prefixes |= INSN_LOCK; break;
        case 0xF2: o->prefixes = (uint8_t)((o->prefixes & ~INSN_REP) | INSN_REPNE); break; /* the last one counts */
        case 0xF3: o->prefixes = (uint8_t)((o->prefixes & ~INSN_REPNE) | INSN_REP); break;
        case 0x66: o->prefixes |= INSN_OPSIZE; break;
        case 0x67: o->prefixes |= INSN_ADDRSIZE; break;
        case 0x26: case 0x2E: case 0x36: case 0x3E: /* ES, CS, SS, DS: ignored in 64-bit mode */
            if (!long_mode) {
                o->seg = (uint8_t)((op >> 3) & 3);
                seg_given = true;
            }
            break;
        case 0x64: case 0x65:
            o->seg = (uint8_t)(op == 0x64 ? SEG_FS : SEG_GS);
            seg_given = true;
            break;
        default:
            if (long_mode && (op & 0xF0) == 0x40) {
                o->rex = (uint8_t)op;
                continue;
            }
            goto opcode;
        }
        o->rex = 0; /* a REX that is not last is ignored */
    }
opcode:
    if (seg_given)
        o->prefixes |= INSN_SEG;
    if ((op == 0xC4 || op == 0xC5) && d.at < d.size && (long_mode || (d.bytes[d.at] & 0xC0) == 0xC0) && !(mode_key & KEY_REAL)) {
        map = decode_vex(&d, o, op == 0xC5);
        op = decode_byte(&d);
        if (map == 0)
            return d.short_of ? -1 : d.too_long ? EXC_GP : EXC_UD;
    } else if ((op == 0xC4 || op == 0xC5) && d.at >= d.size && d.at < DECODE_MAX_LENGTH) {
        return -1;
    } else if (op == 0x0F) {
        map = 1;
        op = decode_byte(&d);
        if (op == 0x38 || op == 0x3A) {
            map = op == 0x38 ? 2 : 3;
            op = decode_byte(&d);
        }
    }
    if (d.short_of || d.too_long)
        goto incomplete;
    o->opcode = (uint8_t)op;
    o->addrsize = long_mode ? (o->prefixes & INSN_ADDRSIZE ? 4 : 8)
                            : ((mode_key & KEY_CS_SIZE) == KEY_CS32) != ((o->prefixes & INSN_ADDRSIZE) != 0) ? 4 : 2;
    if (x->has_modrm[map][op]) {
        o->has_modrm = true;
        o->modrm = decode_byte(&d);
        mod = o->modrm >> 6;
        rm = o->modrm & 7;
        o->reg = (uint8_t)(((o->modrm >> 3) & 7) | (o->rex & 4 ? 8 : 0));
        o->rm = (uint8_t)(rm | (o->rex & 1 ? 8 : 0));
        o->memory = mod != 3;
        if (d.short_of || d.too_long)
            goto incomplete;
    } else {
        o->rm = o->reg = (uint8_t)((op & 7) | (o->rex & 1 ? 8 : 0));
    }
    first = x->start[map][op];
    end = x->start[map][op + 1];
    for (i = first; i < end; i++)
        if (decode_row_fits(c, x->rows[i], o, long_mode)) {
            row = x->rows[i];
            break;
        }
    if (!row) { /* the length does not matter any more, except when the bytes so far end it */
        return EXC_UD;
    }
    o->row = row;
    /* MOV to and from control and debug registers ignores mod: always registers. */
    for (i = 0; i < 2; i++)
        if (row->opnd[i] == OPND_Cd || row->opnd[i] == OPND_Dd) {
            o->memory = false;
            mod = 3;
        }
    if (o->memory) {
        if (o->addrsize == 2)
            decode_modrm16(&d, o, mod, rm);
        else
            decode_modrm32(&d, o, mod, rm, long_mode);
        if (!seg_given)
            o->seg = o->base == GPR_RBP || o->base == GPR_RSP ? SEG_SS : SEG_DS;
    } else if (!seg_given) {
        o->seg = SEG_DS;
    }
    /* A mandatory 66 is no operand size, but for instructions with operands of that size (MOVBE). */
    size_prefix = (o->prefixes & INSN_OPSIZE) && !(row->attr & ROW_IGNORE_66) &&
                  ((row->enc & PFX_MASK) != PFX_66 || row->opnd[0] == OPND_Gv || row->opnd[0] == OPND_Mv);
    if (long_mode)
        o->opsize = (row->attr & ROW_FORCE64) || (o->rex & 8) ? 8 : size_prefix ? 2 : row->attr & ROW_DEF64 ? 8 : 4;
    else
        o->opsize = ((mode_key & KEY_CS_SIZE) == KEY_CS32) != size_prefix ? 4 : 2;
    decode_immediates(&d, o, long_mode);
    if (d.short_of || d.too_long)
        goto incomplete;
    o->length = (uint8_t)d.at;
    memcpy(o->bytes, bytes, d.at);
    if ((o->prefixes & INSN_LOCK) && (!(row->attr & ROW_LOCK) || !o->memory))
        return EXC_UD;
    return 0;
incomplete:
    return d.too_long ? EXC_GP : -1;
}

EMU_PRIV uint64_t insn_address(struct cpu *c, const struct insn *i)
{
    uint64_t a = c->gpr[i->base] + (c->gpr[i->index] << i->scale) + (uint64_t)i->disp;
    if (i->rip_relative)
        a += c->next_rip;
    return i->addrsize == 8 ? a : i->addrsize == 4 ? (uint32_t)a : (uint16_t)a;
}

EMU_PRIV int insn_load_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t *value)
{
    if (i->memory)
        return cpu_load(c, i->seg, insn_address(c, i), size, value);
    if (size == 1 && !i->rex && i->rm >= 4 && i->rm < 8)
        *value = cpu_get8(c, i->rm & 3, true);
    else
        *value = cpu_get(c, i->rm, size);
    return CPU_OK;
}

EMU_PRIV int insn_store_rm(struct cpu *c, const struct insn *i, unsigned size, uint64_t value)
{
    if (i->memory)
        return cpu_store(c, i->seg, insn_address(c, i), size, value);
    if (size == 1)
        cpu_put8(c, !i->rex && i->rm >= 4 && i->rm < 8 ? i->rm & 3 : i->rm, !i->rex && i->rm >= 4 && i->rm < 8, (uint8_t)value);
    else
        cpu_put(c, i->rm, value, size);
    return CPU_OK;
}
