/* cpu/table.c - the integer instructions: one row per form.
 *
 * Models     Opcode maps of SDM vol. 2D appendix A, without system, x87 and vector instructions (system.c, x87.c, mmx.c, sse*.c).
 * Contract   cpu_rows_int() for decode.c. Columns: encoding, mnemonic, operands, feature, attributes, flags read, flags written, operation
 *            for the trace builder, plain-C function (interp.c).
 * Invariants 1. "written" lists a flag only if the instruction surely writes it: a shift by CL may leave all (so it also reads all).
 */
#include "../machine.h"
#include "cpu.h"
#include "uop.h"

#define ROW_INT(enc, name, o1, o2, o3, attr, fr, fw, op, fn)                                                           \
    { enc, name, { o1, o2, o3, 0 }, CPU_ALWAYS, HOW_INT, attr, fr, fw, op, fn, NULL, NULL }
#define ROW_INTF(enc, name, o1, o2, o3, needs, attr, fr, fw, op, fn)                                                   \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_INT, attr, fr, fw, op, fn, NULL, NULL }
#define TABLE_ALL FLAGS_ARITH
#define TABLE_NO OPND_NONE
#define TABLE_ALU(base, name, op, fr, attr)                                                                            \
    ROW_INT(ENC(base), name, OPND_Eb, OPND_Gb, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),                         \
    ROW_INT(ENC(base + 1), name, OPND_Ev, OPND_Gv, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),                     \
    ROW_INT(ENC(base + 2), name, OPND_Gb, OPND_Eb, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                        \
    ROW_INT(ENC(base + 3), name, OPND_Gv, OPND_Ev, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                        \
    ROW_INT(ENC(base + 4), name, OPND_AL, OPND_Ib, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                        \
    ROW_INT(ENC(base + 5), name, OPND_eAX, OPND_Iz, TABLE_NO, 0, fr, TABLE_ALL, op, interp_alu),                       \
    ROW_INT(ENC(0x80) | SLASH(base >> 3), name, OPND_Eb, OPND_Ib, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),      \
    ROW_INT(ENC(0x81) | SLASH(base >> 3), name, OPND_Ev, OPND_Iz, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu),      \
    ROW_INT(ENC(0x82) | SLASH(base >> 3) | NOT64, name, OPND_Eb, OPND_Ib, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu), \
    ROW_INT(ENC(0x83) | SLASH(base >> 3), name, OPND_Ev, OPND_Ibs, TABLE_NO, attr, fr, TABLE_ALL, op, interp_alu)
#define TABLE_SHIFT(n, name, op, fr, fw, op2)                                                                          \
    ROW_INT(ENC(0xC0) | SLASH(n), name, OPND_Eb, OPND_Ib, TABLE_NO, 0, fr, fw, op, interp_shift),                      \
    ROW_INT(ENC(0xC1) | SLASH(n), name, OPND_Ev, OPND_Ib, TABLE_NO, 0, fr, fw, op, interp_shift),                      \
    ROW_INT(ENC(0xD0) | SLASH(n), name, OPND_Eb, OPND_1, TABLE_NO, 0, fr, fw, op, interp_shift),                       \
    ROW_INT(ENC(0xD1) | SLASH(n), name, OPND_Ev, OPND_1, TABLE_NO, 0, fr, fw, op, interp_shift),                       \
    ROW_INT(ENC(0xD2) | SLASH(n), name, OPND_Eb, OPND_CL, TABLE_NO, 0, TABLE_ALL, 0, op, interp_shift),                \
    ROW_INT(ENC(0xD3) | SLASH(n), name, OPND_Ev, OPND_CL, TABLE_NO, 0, TABLE_ALL, 0, op, interp_shift)
#define TABLE_CC(n, cc, reads)                                                                                         \
    ROW_INT(ENC(0x70 + n), "j" cc, OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64, reads, 0, OP_JCC, interp_jcc),            \
    ROW_INT(ENC0F(0x80 + n), "j" cc, OPND_Jz, TABLE_NO, TABLE_NO, ROW_FORCE64, reads, 0, OP_JCC, interp_jcc),          \
    ROW_INT(ENC0F(0x90 + n), "set" cc, OPND_Eb, TABLE_NO, TABLE_NO, 0, reads, 0, OP_SETCC, interp_setcc),              \
    ROW_INTF(ENC0F(0x40 + n), "cmov" cc, OPND_Gv, OPND_Ev, TABLE_NO, CPU_CMOV, 0, reads, 0, OP_CMOV, interp_cmov)
#define TABLE_STRING(op, name, o1, o2, fr, fw)                                                                         \
    ROW_INT(ENC(op), name, o1##b, o2##b, TABLE_NO, ROW_REP, fr, fw, OP_STRING, string_run),                            \
    ROW_INT(ENC(op + 1), name, o1##v, o2##v, TABLE_NO, ROW_REP, fr, fw, OP_STRING, string_run)

static const struct insn_row table_rows[] = {
    TABLE_ALU(0x00, "add", OP_ADD, 0, ROW_LOCK),
    TABLE_ALU(0x08, "or", OP_OR, 0, ROW_LOCK),
    TABLE_ALU(0x10, "adc", OP_ADC, FLAG_CF, ROW_LOCK),
    TABLE_ALU(0x18, "sbb", OP_SBB, FLAG_CF, ROW_LOCK),
    TABLE_ALU(0x20, "and", OP_AND, 0, ROW_LOCK),
    TABLE_ALU(0x28, "sub", OP_SUB, 0, ROW_LOCK),
    TABLE_ALU(0x30, "xor", OP_XOR, 0, ROW_LOCK),
    TABLE_ALU(0x38, "cmp", OP_CMP, 0, 0),

    ROW_INT(ENC(0x40) | OPREG | NOT64, "inc", OPND_Zv, TABLE_NO, TABLE_NO, 0, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_INC, interp_unary),
    ROW_INT(ENC(0x48) | OPREG | NOT64, "dec", OPND_Zv, TABLE_NO, TABLE_NO, 0, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_DEC, interp_unary),
    ROW_INT(ENC(0x50) | OPREG, "push", OPND_Zq, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),
    ROW_INT(ENC(0x58) | OPREG, "pop", OPND_Zq, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_POP, interp_pop),
    ROW_INT(ENC(0x63) | MODE64, "movsxd", OPND_Gv, OPND_Ed, TABLE_NO, 0, 0, 0, OP_MOVSX, interp_movsx),
    ROW_INT(ENC(0x68), "push", OPND_Iz, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),
    ROW_INT(ENC(0x69), "imul", OPND_Gv, OPND_Ev, OPND_Iz, 0, 0, TABLE_ALL, OP_IMUL, interp_imul),
    ROW_INT(ENC(0x6A), "push", OPND_Ibs, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),
    ROW_INT(ENC(0x6B), "imul", OPND_Gv, OPND_Ev, OPND_Ibs, 0, 0, TABLE_ALL, OP_IMUL, interp_imul),
    TABLE_STRING(0x6C, "ins", OPND_Y, OPND_X, 0, 0),
    TABLE_STRING(0x6E, "outs", OPND_X, OPND_X, 0, 0),

    TABLE_CC(0x0, "o", FLAG_OF), TABLE_CC(0x1, "no", FLAG_OF), TABLE_CC(0x2, "b", FLAG_CF), TABLE_CC(0x3, "ae", FLAG_CF),
    TABLE_CC(0x4, "e", FLAG_ZF), TABLE_CC(0x5, "ne", FLAG_ZF), TABLE_CC(0x6, "be", FLAG_CF | FLAG_ZF), TABLE_CC(0x7, "a", FLAG_CF | FLAG_ZF),
    TABLE_CC(0x8, "s", FLAG_SF), TABLE_CC(0x9, "ns", FLAG_SF), TABLE_CC(0xA, "p", FLAG_PF), TABLE_CC(0xB, "np", FLAG_PF),
    TABLE_CC(0xC, "l", FLAG_SF | FLAG_OF), TABLE_CC(0xD, "ge", FLAG_SF | FLAG_OF),
    TABLE_CC(0xE, "le", FLAG_SF | FLAG_OF | FLAG_ZF), TABLE_CC(0xF, "g", FLAG_SF | FLAG_OF | FLAG_ZF),

    ROW_INT(ENC(0x84), "test", OPND_Eb, OPND_Gb, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0x85), "test", OPND_Ev, OPND_Gv, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0x86), "xchg", OPND_Eb, OPND_Gb, TABLE_NO, ROW_LOCK, 0, 0, OP_XCHG, interp_xchg),
    ROW_INT(ENC(0x87), "xchg", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, 0, 0, OP_XCHG, interp_xchg),
    ROW_INT(ENC(0x88), "mov", OPND_Eb, OPND_Gb, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x89), "mov", OPND_Ev, OPND_Gv, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x8A), "mov", OPND_Gb, OPND_Eb, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x8B), "mov", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0x8D) | MOD_MEM, "lea", OPND_Gv, OPND_M, TABLE_NO, 0, 0, 0, OP_LEA, interp_lea),
    ROW_INT(ENC(0x8F) | SLASH(0), "pop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_POP, interp_pop),
    ROW_CALL(ENC(0x90) | PFX_F3, "pause", TABLE_NO, TABLE_NO, TABLE_NO, CPU_ALWAYS, ROW_ENDS, 0, 0, cpu_pause),
    ROW_INT(ENC(0x90) | OPREG, "xchg", OPND_Zv, OPND_eAX, TABLE_NO, 0, 0, 0, OP_XCHG, interp_xchg),
    ROW_INT(ENC(0x98), "cbw", TABLE_NO, TABLE_NO, TABLE_NO, 0, 0, 0, OP_CBW, interp_cbw),
    ROW_INT(ENC(0x99), "cwd", TABLE_NO, TABLE_NO, TABLE_NO, 0, 0, 0, OP_CWD, interp_cwd),
    ROW_INT(ENC(0x9E) | NOT64, "sahf", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, FLAG_OF, TABLE_ALL & ~FLAG_OF, OP_FLAGS, interp_sahf),
    ROW_INT(ENC(0x9F) | NOT64, "lahf", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL, 0, OP_FLAGS, interp_lahf),
    ROW_INTF(ENC(0x9E) | MODE64, "sahf", TABLE_NO, TABLE_NO, TABLE_NO, CPU_LAHF_LM, ROW_NO_RIP, FLAG_OF, TABLE_ALL & ~FLAG_OF, OP_FLAGS, interp_sahf),
    ROW_INTF(ENC(0x9F) | MODE64, "lahf", TABLE_NO, TABLE_NO, TABLE_NO, CPU_LAHF_LM, ROW_NO_RIP, TABLE_ALL, 0, OP_FLAGS, interp_lahf),
    ROW_INT(ENC(0xA0), "mov", OPND_AL, OPND_Ob, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xA1), "mov", OPND_eAX, OPND_Ov, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xA2), "mov", OPND_Ob, OPND_AL, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xA3), "mov", OPND_Ov, OPND_eAX, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    TABLE_STRING(0xA4, "movs", OPND_Y, OPND_X, 0, 0),
    TABLE_STRING(0xA6, "cmps", OPND_X, OPND_Y, TABLE_ALL, 0),
    ROW_INT(ENC(0xA8), "test", OPND_AL, OPND_Ib, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xA9), "test", OPND_eAX, OPND_Iz, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    TABLE_STRING(0xAA, "stos", OPND_Y, OPND_Y, 0, 0),
    TABLE_STRING(0xAC, "lods", OPND_X, OPND_X, 0, 0),
    TABLE_STRING(0xAE, "scas", OPND_Y, OPND_Y, TABLE_ALL, 0),
    ROW_INT(ENC(0xB0) | OPREG, "mov", OPND_Zb, OPND_Ib, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xB8) | OPREG, "mov", OPND_Zv, OPND_Iv, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    TABLE_SHIFT(0, "rol", OP_ROL, TABLE_ALL, 0, 0), TABLE_SHIFT(1, "ror", OP_ROR, TABLE_ALL, 0, 0),
    TABLE_SHIFT(2, "rcl", OP_RCL, TABLE_ALL, 0, 0), TABLE_SHIFT(3, "rcr", OP_RCR, TABLE_ALL, 0, 0),
    TABLE_SHIFT(4, "shl", OP_SHL, 0, TABLE_ALL, 0), TABLE_SHIFT(5, "shr", OP_SHR, 0, TABLE_ALL, 0),
    TABLE_SHIFT(6, "shl", OP_SHL, 0, TABLE_ALL, 0), TABLE_SHIFT(7, "sar", OP_SAR, 0, TABLE_ALL, 0),
    ROW_INT(ENC(0xC2), "ret", OPND_Iw, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_RET, interp_ret),
    ROW_INT(ENC(0xC3), "ret", TABLE_NO, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_RET, interp_ret),
    ROW_INT(ENC(0xC6) | SLASH(0), "mov", OPND_Eb, OPND_Ib, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xC7) | SLASH(0), "mov", OPND_Ev, OPND_Iz, TABLE_NO, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INT(ENC(0xC9), "leave", TABLE_NO, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_LEAVE, interp_leave),
    ROW_INT(ENC(0xE0), "loopne", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, FLAG_ZF, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE1), "loope", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, FLAG_ZF, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE2), "loop", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE3), "jcxz", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_LOOP, interp_loop),
    ROW_INT(ENC(0xE8), "call", OPND_Jz, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_CALL, interp_call),
    ROW_INT(ENC(0xE9), "jmp", OPND_Jz, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_JMP, interp_jmp),
    ROW_INT(ENC(0xEB), "jmp", OPND_Jb, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_JMP, interp_jmp),
    ROW_INT(ENC(0xF5), "cmc", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL, FLAG_CF, OP_FLAGS, interp_carry),
    ROW_INT(ENC(0xF6) | SLASH(0), "test", OPND_Eb, OPND_Ib, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF6) | SLASH(1), "test", OPND_Eb, OPND_Ib, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF6) | SLASH(2), "not", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, 0, 0, OP_NOT, interp_unary),
    ROW_INT(ENC(0xF6) | SLASH(3), "neg", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_NEG, interp_unary),
    ROW_INT(ENC(0xF6) | SLASH(4), "mul", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_MUL, interp_mul),
    ROW_INT(ENC(0xF6) | SLASH(5), "imul", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_IMUL1, interp_mul),
    ROW_INT(ENC(0xF6) | SLASH(6), "div", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, 0, OP_DIV, interp_div),
    ROW_INT(ENC(0xF6) | SLASH(7), "idiv", OPND_Eb, TABLE_NO, TABLE_NO, 0, 0, 0, OP_IDIV, interp_div),
    ROW_INT(ENC(0xF7) | SLASH(0), "test", OPND_Ev, OPND_Iz, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF7) | SLASH(1), "test", OPND_Ev, OPND_Iz, TABLE_NO, 0, 0, TABLE_ALL, OP_TEST, interp_alu),
    ROW_INT(ENC(0xF7) | SLASH(2), "not", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, 0, 0, OP_NOT, interp_unary),
    ROW_INT(ENC(0xF7) | SLASH(3), "neg", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_NEG, interp_unary),
    ROW_INT(ENC(0xF7) | SLASH(4), "mul", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_MUL, interp_mul),
    ROW_INT(ENC(0xF7) | SLASH(5), "imul", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, TABLE_ALL, OP_IMUL1, interp_mul),
    ROW_INT(ENC(0xF7) | SLASH(6), "div", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, 0, OP_DIV, interp_div),
    ROW_INT(ENC(0xF7) | SLASH(7), "idiv", OPND_Ev, TABLE_NO, TABLE_NO, 0, 0, 0, OP_IDIV, interp_div),
    ROW_INT(ENC(0xF8), "clc", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_FLAGS, interp_carry),
    ROW_INT(ENC(0xF9), "stc", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_FLAGS, interp_carry),
    ROW_INT(ENC(0xFC), "cld", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_FLAGS, interp_direction),
    ROW_INT(ENC(0xFD), "std", TABLE_NO, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_FLAGS, interp_direction),
    ROW_INT(ENC(0xFE) | SLASH(0), "inc", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_INC, interp_unary),
    ROW_INT(ENC(0xFE) | SLASH(1), "dec", OPND_Eb, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_DEC, interp_unary),
    ROW_INT(ENC(0xFF) | SLASH(0), "inc", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_INC, interp_unary),
    ROW_INT(ENC(0xFF) | SLASH(1), "dec", OPND_Ev, TABLE_NO, TABLE_NO, ROW_LOCK, FLAG_CF, TABLE_ALL & ~FLAG_CF, OP_DEC, interp_unary),
    ROW_INT(ENC(0xFF) | SLASH(2), "call", OPND_Ev, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_CALL_RM, interp_call_rm),
    ROW_INT(ENC(0xFF) | SLASH(4), "jmp", OPND_Ev, TABLE_NO, TABLE_NO, ROW_FORCE64 | ROW_ENDS, 0, 0, OP_JMP_RM, interp_jmp_rm),
    ROW_INT(ENC(0xFF) | SLASH(6), "push", OPND_Ev, TABLE_NO, TABLE_NO, ROW_DEF64, 0, 0, OP_PUSH, interp_push),

    ROW_INT(ENC0F(0x0D), "prefetchw", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x18), "prefetch", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x19), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1A), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1B), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1C), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1D), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1E), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0x1F), "nop", OPND_Ev, TABLE_NO, TABLE_NO, ROW_NO_RIP, 0, 0, OP_NOP, interp_nop),
    ROW_INT(ENC0F(0xA3), "bt", OPND_Ev, OPND_Gv, TABLE_NO, 0, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BT, interp_bit_test),
    ROW_INT(ENC0F(0xA4), "shld", OPND_Ev, OPND_Gv, OPND_Ib, 0, TABLE_ALL, 0, OP_SHLD, interp_shift_double),
    ROW_INT(ENC0F(0xA5), "shld", OPND_Ev, OPND_Gv, OPND_CL, 0, TABLE_ALL, 0, OP_SHLD, interp_shift_double),
    ROW_INT(ENC0F(0xAB), "bts", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTS, interp_bit_test),
    ROW_INT(ENC0F(0xAC), "shrd", OPND_Ev, OPND_Gv, OPND_Ib, 0, TABLE_ALL, 0, OP_SHRD, interp_shift_double),
    ROW_INT(ENC0F(0xAD), "shrd", OPND_Ev, OPND_Gv, OPND_CL, 0, TABLE_ALL, 0, OP_SHRD, interp_shift_double),
    ROW_INT(ENC0F(0xAF), "imul", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, TABLE_ALL, OP_IMUL, interp_imul),
    ROW_INT(ENC0F(0xB0), "cmpxchg", OPND_Eb, OPND_Gb, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_CMPXCHG, interp_cmpxchg),
    ROW_INT(ENC0F(0xB1), "cmpxchg", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_CMPXCHG, interp_cmpxchg),
    ROW_INT(ENC0F(0xB3), "btr", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTR, interp_bit_test),
    ROW_INT(ENC0F(0xB6), "movzx", OPND_Gv, OPND_Eb, TABLE_NO, 0, 0, 0, OP_MOVZX, interp_mov),
    ROW_INT(ENC0F(0xB7), "movzx", OPND_Gv, OPND_Ew, TABLE_NO, 0, 0, 0, OP_MOVZX, interp_mov),
    ROW_INTF(ENC0F(0xB8) | PFX_F3, "popcnt", OPND_Gv, OPND_Ev, TABLE_NO, CPU_POPCNT, 0, 0, TABLE_ALL, OP_POPCNT, interp_bit_scan),
    ROW_INT(ENC0F(0xBA) | SLASH(4), "bt", OPND_Ev, OPND_Ib, TABLE_NO, 0, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BT, interp_bit_test),
    ROW_INT(ENC0F(0xBA) | SLASH(5), "bts", OPND_Ev, OPND_Ib, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTS, interp_bit_test),
    ROW_INT(ENC0F(0xBA) | SLASH(6), "btr", OPND_Ev, OPND_Ib, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTR, interp_bit_test),
    ROW_INT(ENC0F(0xBA) | SLASH(7), "btc", OPND_Ev, OPND_Ib, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTC, interp_bit_test),
    ROW_INT(ENC0F(0xBB), "btc", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, TABLE_ALL & ~FLAG_CF, FLAG_CF, OP_BTC, interp_bit_test),
    ROW_INTF(ENC0F(0xBC) | PFX_F3, "tzcnt", OPND_Gv, OPND_Ev, TABLE_NO, CPU_BMI1, 0, 0, TABLE_ALL, OP_TZCNT, interp_bit_scan),
    ROW_INT(ENC0F(0xBC), "bsf", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, TABLE_ALL, OP_BSF, interp_bit_scan),
    ROW_INTF(ENC0F(0xBD) | PFX_F3, "lzcnt", OPND_Gv, OPND_Ev, TABLE_NO, CPU_ABM, 0, 0, TABLE_ALL, OP_LZCNT, interp_bit_scan),
    ROW_INT(ENC0F(0xBD), "bsr", OPND_Gv, OPND_Ev, TABLE_NO, 0, 0, TABLE_ALL, OP_BSR, interp_bit_scan),
    ROW_INT(ENC0F(0xBE), "movsx", OPND_Gv, OPND_Eb, TABLE_NO, 0, 0, 0, OP_MOVSX, interp_movsx),
    ROW_INT(ENC0F(0xBF), "movsx", OPND_Gv, OPND_Ew, TABLE_NO, 0, 0, 0, OP_MOVSX, interp_movsx),
    ROW_INT(ENC0F(0xC0), "xadd", OPND_Eb, OPND_Gb, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_XADD, interp_xadd),
    ROW_INT(ENC0F(0xC1), "xadd", OPND_Ev, OPND_Gv, TABLE_NO, ROW_LOCK, 0, TABLE_ALL, OP_XADD, interp_xadd),
    ROW_INTF(ENC0F(0xC3) | PFX_NP | MOD_MEM, "movnti", OPND_My, OPND_Gy, TABLE_NO, CPU_SSE2, 0, 0, 0, OP_MOV, interp_mov),
    ROW_INTF(ENC0F(0xC7) | SLASH(1) | MOD_MEM | W1, "cmpxchg16b", OPND_M, TABLE_NO, TABLE_NO, CPU_CX16, ROW_LOCK, TABLE_ALL, 0, OP_CMPXCHG8B, interp_cmpxchg8b),
    ROW_INTF(ENC0F(0xC7) | SLASH(1) | MOD_MEM, "cmpxchg8b", OPND_M, TABLE_NO, TABLE_NO, CPU_CX8, ROW_LOCK, TABLE_ALL, 0, OP_CMPXCHG8B, interp_cmpxchg8b),
    ROW_INT(ENC0F(0xC8) | OPREG, "bswap", OPND_Zv, TABLE_NO, TABLE_NO, 0, 0, 0, OP_BSWAP, interp_bswap),
    ROW_INTF(ENC0F38(0xF0) | PFX_NP | MOD_MEM, "movbe", OPND_Gv, OPND_Mv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF0) | PFX_66 | MOD_MEM, "movbe", OPND_Gv, OPND_Mv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF1) | PFX_NP | MOD_MEM, "movbe", OPND_Mv, OPND_Gv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF1) | PFX_66 | MOD_MEM, "movbe", OPND_Mv, OPND_Gv, TABLE_NO, CPU_MOVBE, 0, 0, 0, OP_MOVBE, interp_movbe),
    ROW_INTF(ENC0F38(0xF6) | PFX_66, "adcx", OPND_Gy, OPND_Ey, TABLE_NO, CPU_ADX, 0, TABLE_ALL, TABLE_ALL, OP_ADCX, interp_adx),
    ROW_INTF(ENC0F38(0xF6) | PFX_F3, "adox", OPND_Gy, OPND_Ey, TABLE_NO, CPU_ADX, 0, TABLE_ALL, TABLE_ALL, OP_ADOX, interp_adx),
    { 0, NULL, { 0, 0, 0, 0 }, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }
};

EMU_PRIV const struct insn_row *cpu_rows_int(void) { return table_rows; }

#undef ROW_INT
#undef ROW_INTF
#undef TABLE_ALL
#undef TABLE_NO
#undef TABLE_ALU
#undef TABLE_SHIFT
#undef TABLE_CC
#undef TABLE_STRING
