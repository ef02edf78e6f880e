/* cpu/uop.h - the uop, and the macros that handlers are made of.
 *
 * Contract   Included by the files that define handlers (handlers_*.c, sse*.c) and by the trace builder.
 * Theory     A handler executes one uop and goes to the next in tail position (CPU.md): UOP_FN(name) { ...; UOP_NEXT; }. Registers that
 *            live in host registers between handlers are "slots", the handlers' last arguments. An operand is of a kind: 0..3 is that
 *            slot, R is a cell of the register file at a byte offset from struct cpu (u->a, u->b, u->x). GET(kind, field) reads all
 *            64 bits, PUT(kind, field, value) writes them. Where a compiler gives no tail calls the slots are none and a handler
 *            returns the next uop to a plain loop.
 * Invariants 1. A handler changes nothing the guest can see before its last fault exit (UOP_MISS, UOP_FAULT).
 *            2. A memory uop takes two units: struct uop and struct uop_page.
 *            3. Nothing in a handler takes the address of a local: that would kill the tail call.
 */
#ifndef EMU_UOP_H
#define EMU_UOP_H

#include "../machine.h"
#include "cpu.h"

/* What a HOW_INT row does: the trace builder chooses handlers by it. ORDER int_op (table.c, interp.c, trace.c) */
enum int_op {
    OP_ADD, OP_OR, OP_ADC, OP_SBB, OP_AND, OP_SUB, OP_XOR, OP_CMP, /* ModRM.reg of group 1 */
    OP_ROL, OP_ROR, OP_RCL, OP_RCR, OP_SHL, OP_SHR, OP_SAL, OP_SAR, /* of group 2 */
    OP_TEST, OP_MOV, OP_MOVZX, OP_MOVSX, OP_LEA, OP_XCHG, OP_INC, OP_DEC, OP_NEG, OP_NOT, OP_MUL, OP_IMUL1, OP_DIV, OP_IDIV, OP_IMUL,
    OP_SHLD, OP_SHRD, OP_BT, OP_BTS, OP_BTR, OP_BTC, OP_BSF, OP_BSR, OP_TZCNT, OP_LZCNT, OP_POPCNT, OP_BSWAP, OP_MOVBE, OP_ADCX, OP_ADOX,
    OP_SETCC, OP_CMOV, OP_JCC, OP_LOOP, OP_JMP, OP_JMP_RM, OP_CALL, OP_CALL_RM, OP_RET, OP_PUSH, OP_POP, OP_LEAVE, OP_CBW, OP_CWD,
    OP_NOP, OP_FLAGS, OP_XADD, OP_CMPXCHG, OP_CMPXCHG8B, OP_STRING
};
/* interp.c, string.c: the same instructions as plain C */
EMU_PRIV int interp_alu(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_unary(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_shift(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_shift_double(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_mov(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_movsx(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_lea(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_xchg(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cmov(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_setcc(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_bswap(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_movbe(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cbw(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cwd(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_nop(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_lahf(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_sahf(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_carry(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_direction(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_mul(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_imul(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_div(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_bit_test(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_bit_scan(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_adx(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_xadd(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cmpxchg(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_cmpxchg8b(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_jcc(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_loop(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_jmp(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_jmp_rm(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_call(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_call_rm(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_ret(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_push(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_pop(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_leave(struct cpu *c, const struct insn *i);
EMU_PRIV int interp_go(struct cpu *c, uint64_t target, unsigned opsize);
EMU_PRIV uint64_t interp_shift_value(unsigned op, unsigned size, uint64_t d, unsigned n, unsigned carry_in, uint32_t *cfof);
EMU_PRIV bool interp_divide(unsigned size, bool is_signed, uint64_t hi, uint64_t lo, uint64_t s, uint64_t *q, uint64_t *r);
EMU_PRIV int string_run(struct cpu *c, const struct insn *i); /* MOVS CMPS STOS LODS SCAS INS OUTS with their prefixes */

/* EMU_TAIL_CALLS and EMU_MUSTTAIL come from base.h. */
#ifndef EMU_SLOTS
#if EMU_TAIL_CALLS && (defined(__x86_64__) && !defined(_WIN32) && !defined(__ILP32__) || defined(__aarch64__))
#define EMU_SLOTS 3
#else
#define EMU_SLOTS 0
#endif
#endif

#if EMU_SLOTS == 0
#define UOP_PARAMS struct cpu *c, struct uop *u
#define UOP_ARGS(next) c, (next)
#elif EMU_SLOTS == 3
#define UOP_PARAMS struct cpu *c, struct uop *u, uint64_t s0, uint64_t s1, uint64_t s2
#define UOP_ARGS(next) c, (next), s0, s1, s2
#else
#define UOP_PARAMS struct cpu *c, struct uop *u, uint64_t s0, uint64_t s1, uint64_t s2, uint64_t s3
#define UOP_ARGS(next) c, (next), s0, s1, s2, s3
#endif

struct uop;
typedef struct uop *(*uop_fn)(UOP_PARAMS);

struct uop {
    uop_fn fn;
    uint16_t a, b, x;    /* byte offsets into struct cpu: destination (or only operand), source (or base), index */
    uint16_t pos;        /* offset in its page of the instruction it belongs to */
    int32_t disp;        /* displacement, small immediate; trace heads and exits: see trace.c */
    uint8_t insn;        /* index of its instruction in the trace: instructions retired before it */
    uint8_t count;       /* exits: instructions retired when it leaves */
    uint8_t scale;       /* index shift; vectors: alignment mask of the memory operand */
    uint8_t misc;        /* immediate byte of vectors, condition ... */
    union {
        uint64_t imm;
        struct uop *link; /* exits: where they lead */
        const void *ptr;
    } v;
};
/* Second unit of a memory uop: its private one-page translation. Hit: same page, same generation, not over the page's end. */
struct uop_page {
    uint64_t page;       /* linear */
    uintptr_t addend;    /* host address = linear address + addend */
    uint32_t generation;
    uint8_t seg;         /* SEG_SS: a non-canonical address is #SS */
    uint8_t misses;
    uint16_t spare;
    union {
        uint64_t imm;
        struct uop *link;
    } v;
};
EMU_STATIC_ASSERT(sizeof(struct uop_page) <= sizeof(struct uop), uop_page_fits);
#define UOP_PAGE(u) ((struct uop_page *)(void *)((u) + 1))

#define UOP_FN(name) static EMU_TAIL_ATTR struct uop *name(UOP_PARAMS)
#define UOP_FN_PRIV(name) EMU_PRIV EMU_TAIL_ATTR struct uop *name(UOP_PARAMS)
#if EMU_TAIL_CALLS
#define UOP_GO(next)                                                                                                   \
    do {                                                                                                               \
        struct uop *uop_next_ = (next);                                                                                \
        EMU_MUSTTAIL return uop_next_->fn(UOP_ARGS(uop_next_));                                                        \
    } while (0)
#define UOP_TAIL(handler) EMU_MUSTTAIL return handler(UOP_ARGS(u)) /* the same uop, another handler */
#else
#define UOP_GO(next) return (next)
#define UOP_TAIL(handler) return handler(UOP_ARGS(u))
#endif
#define UOP_NEXT UOP_GO(u + 1)
#define UOP_NEXT_MEM UOP_GO(u + 2)

/* Cells of the register file. */
#define UOP_CELL(off) (*(uint64_t *)(void *)((char *)c + (off)))
#define UOP_XMM(off) ((union vec *)(void *)((char *)c + (off)))
#define UOP_GPR(r) ((uint16_t)(offsetof(struct cpu, gpr) + 8u * (r)))
#define GET_0(f) s0
#define GET_1(f) s1
#define GET_2(f) s2
#define GET_3(f) s3
#define GET_R(f) UOP_CELL(u->f)
#define GET(k, f) GET_##k(f)
#define PUT_0(f, v) (s0 = (v))
#define PUT_1(f, v) (s1 = (v))
#define PUT_2(f, v) (s2 = (v))
#define PUT_3(f, v) (s3 = (v))
#define PUT_R(f, v) (UOP_CELL(u->f) = (v))
#define PUT(k, f, v) PUT_##k(f, v)

/* Guest registers that are slots, in order. ORDER slot (UOP_SPILL, UOP_RELOAD, uop_slot_of) */
enum { SLOT_REG0 = REG_RAX, SLOT_REG1 = REG_RDX, SLOT_REG2 = REG_RCX, SLOT_REG3 = REG_RDI };
#if EMU_SLOTS == 0
#define UOP_SPILL ((void)0)
#define UOP_RELOAD ((void)0)
#elif EMU_SLOTS == 3
#define UOP_SPILL (c->gpr[SLOT_REG0] = s0, c->gpr[SLOT_REG1] = s1, c->gpr[SLOT_REG2] = s2)
#define UOP_RELOAD (s0 = c->gpr[SLOT_REG0], s1 = c->gpr[SLOT_REG1], s2 = c->gpr[SLOT_REG2])
#else
#define UOP_SPILL (c->gpr[SLOT_REG0] = s0, c->gpr[SLOT_REG1] = s1, c->gpr[SLOT_REG2] = s2, c->gpr[SLOT_REG3] = s3)
#define UOP_RELOAD (s0 = c->gpr[SLOT_REG0], s1 = c->gpr[SLOT_REG1], s2 = c->gpr[SLOT_REG2], s3 = c->gpr[SLOT_REG3])
#endif

/* EACH_KIND(M, ...): M(kind, ...) for every operand kind; EACH_KIND2: M(kind2, kind1, ...); EACH_KIND3: M(kind3, kind2, kind1, ...). */
#if EMU_SLOTS == 0
#define UOP_KINDS 1
#define EACH_KIND_A(M, ...) M(R, __VA_ARGS__)
#define EACH_KIND_B(M, ...) M(R, __VA_ARGS__)
#define EACH_KIND_C(M, ...) M(R, __VA_ARGS__)
#elif EMU_SLOTS == 3
#define UOP_KINDS 4
#define EACH_KIND_A(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_B(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_C(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(R, __VA_ARGS__)
#else
#define UOP_KINDS 5
#define EACH_KIND_A(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_B(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(R, __VA_ARGS__)
#define EACH_KIND_C(M, ...) M(0, __VA_ARGS__) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(R, __VA_ARGS__)
#endif
#define EACH_KIND(M, ...) EACH_KIND_A(M, __VA_ARGS__)
#define EACH_KIND2_ROW(k, M, ...) EACH_KIND_B(M, k, __VA_ARGS__)
#define EACH_KIND2(M, ...) EACH_KIND_A(EACH_KIND2_ROW, M, __VA_ARGS__)
#define EACH_KIND3_ROW2(k2, k1, M, ...) EACH_KIND_C(M, k2, k1, __VA_ARGS__)
#define EACH_KIND3_ROW(k1, M, ...) EACH_KIND_B(EACH_KIND3_ROW2, k1, M, __VA_ARGS__)
#define EACH_KIND3(M, ...) EACH_KIND_A(EACH_KIND3_ROW, M, __VA_ARGS__)

/* Common exits, in handlers_flow.c. The miss handlers find the linear address in c->miss_va and either fill u's page and run u again,
 * or carry the access out the slow way. */
UOP_FN_PRIV(uop_fault); /* cpu->fault is set: deliver it for u's instruction */
UOP_FN_PRIV(uop_miss_r1);
UOP_FN_PRIV(uop_miss_r2);
UOP_FN_PRIV(uop_miss_r4);
UOP_FN_PRIV(uop_miss_r8);
UOP_FN_PRIV(uop_miss_r16);
UOP_FN_PRIV(uop_miss_w1);
UOP_FN_PRIV(uop_miss_w2);
UOP_FN_PRIV(uop_miss_w4);
UOP_FN_PRIV(uop_miss_w8);
UOP_FN_PRIV(uop_miss_w16);
UOP_FN_PRIV(uop_miss_m1); /* read-modify-write */
UOP_FN_PRIV(uop_miss_m2);
UOP_FN_PRIV(uop_miss_m4);
UOP_FN_PRIV(uop_miss_m8);
UOP_FN_PRIV(uop_misaligned); /* #GP(0) of a 16-byte operand */

#define UOP_MISSES(va, size)                                                                                           \
    EMU_UNLIKELY((((va) - UOP_PAGE(u)->page) | ((uint64_t)(UOP_PAGE(u)->generation ^ c->generation) << 12)) > 4096u - (size))
/* Host pointer to `size` bytes at va; leaves the handler where they are not in the uop's page. rw: r, w or m. */
#define UOP_HOST(p, va, rw, size)                                                                                      \
    do {                                                                                                               \
        if (UOP_MISSES(va, size)) {                                                                                    \
            c->miss_va = (va);                                                                                         \
            UOP_TAIL(uop_miss_##rw##size);                                                                             \
        }                                                                                                              \
        (p) = (uint8_t *)(uintptr_t)((uintptr_t)(va) + UOP_PAGE(u)->addend);                                           \
    } while (0)

/* ---- vector operations: VEC_FN(name) { ... } VEC_HANDLERS(name, bytes) gives name's register form and the form whose last operand is
 * `bytes` (4, 8, 16) of memory; in the row: ROW_VEC_H(...) instead of ROW_VEC(...). Inside, u->a is d, u->x is a, u->b is b or the base
 * register, u->misc the immediate, u->scale the alignment mask. ---- */
struct vec_handlers {
    uop_fn rr, rm;
    unsigned bytes;
};
#define VEC_LOAD_4(p) (c->vtmp[0].q[0] = ld32le(p), c->vtmp[0].q[1] = 0)
#define VEC_LOAD_8(p) (c->vtmp[0].q[0] = ld64le(p), c->vtmp[0].q[1] = 0)
#define VEC_LOAD_16(p) (c->vtmp[0].q[0] = ld64le(p), c->vtmp[0].q[1] = ld64le((p) + 8))
#define VEC_HANDLERS(name, size)                                                                                       \
    UOP_FN(vech_rr_##name)                                                                                             \
    {                                                                                                                  \
        if (vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), UOP_XMM(u->b), u->misc))                                       \
            UOP_TAIL(uop_fault);                                                                                       \
        UOP_NEXT;                                                                                                      \
    }                                                                                                                  \
    UOP_FN(vech_rm_##name)                                                                                             \
    {                                                                                                                  \
        uint64_t va = UOP_CELL(u->b) + (uint64_t)(int64_t)u->disp;                                                     \
        const uint8_t *p;                                                                                              \
        if (EMU_UNLIKELY(va & u->scale))                                                                               \
            UOP_TAIL(uop_misaligned);                                                                                  \
        UOP_HOST(p, va, r, size);                                                                                      \
        VEC_LOAD_##size(p);                                                                                            \
        if (vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), &c->vtmp[0], u->misc))                                         \
            UOP_TAIL(uop_fault);                                                                                       \
        UOP_NEXT_MEM;                                                                                                  \
    }                                                                                                                  \
    static const struct vec_handlers vech_##name = { vech_rr_##name, vech_rm_##name, size };
#define ROW_VEC_H(enc, name, o1, o2, o3, needs, attr, fw, fn)                                                          \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, 0, NULL, vec_##fn, &vech_##fn }
/* A plain store: the low bytes of operand 1 go to operand 0 (memory form), or d = b by fn (register form). */
enum vec_op { VEC_OP_NONE, VEC_OP_STORE };
#define ROW_VEC_STORE(enc, name, o1, o2, o3, needs, attr, fw, fn)                                                      \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, VEC_OP_STORE, NULL, vec_##fn, NULL }

#endif
