/* cpu/uop.h - the uop, and the macros that handlers are made of.
 *
 * Contract   Included by the files that define handlers (handlers_*.c, sse*.c) and by the trace builder.
 * Theory     A handler executes one uop and goes to the next in tail position (CPU.md): UOP_FN(name) { ...; UOP_NEXT; }. It gets the next
 *            one's handler as an argument (`then`) and loads that one's successor's meanwhile, so that no jump waits for a load: a host that
 *            has guessed the jump wrong knows better at once. Hence a uop does not hold its own handler but that of the uop after it, and
 *            before a trace's first uop lies a head, whose `next` is the first uop's handler: links lead to heads (UOP_GO).
 *
 *            Registers that live in host registers between handlers are "slots", handlers' arguments too. An operand is of a kind: 0..3
 *            is that slot, R is a cell of the register file at a byte offset from struct cpu (u->a, u->b, u->x). GET(kind, field) reads all
 *            64 bits, PUT(kind, field, value) writes them. Where a compiler gives no tail calls the slots are none and a handler
 *            returns the next uop to a plain loop, its handler in cpu->then.
 * Invariants 1. A handler changes nothing the guest can see before its last fault exit (UOP_MISS, UOP_FAULT).
 *            2. A memory uop takes two units: struct uop and struct uop_page. The second keeps its own handler, for the way back from a miss; the
 *               CALLs keep where their RET leads there (CALL's miss handler knows it, CALL r has it in v).
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
/* Operand n of an integer instruction: its size, whether it is memory, its register (high: AH..BH). */
EMU_PRIV unsigned interp_size(const struct insn *i, unsigned n);
EMU_PRIV bool interp_is_memory(const struct insn *i, unsigned n);
EMU_PRIV unsigned interp_reg(const struct insn *i, unsigned n, bool *high);
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
#define UOP_SLOT_PARAMS
#define UOP_SLOT_ARGS
#elif EMU_SLOTS == 3
#define UOP_SLOT_PARAMS , uint64_t s0, uint64_t s1, uint64_t s2
#define UOP_SLOT_ARGS , s0, s1, s2
#else
#define UOP_SLOT_PARAMS , uint64_t s0, uint64_t s1, uint64_t s2, uint64_t s3
#define UOP_SLOT_ARGS , s0, s1, s2, s3
#endif
typedef void (*uop_then)(void); /* a handler, whose own type would have to name itself */
#if EMU_TAIL_CALLS
#define UOP_PARAMS struct cpu *c, struct uop *u UOP_SLOT_PARAMS, uop_then then EMU_UNUSED
#define UOP_ARGS(unit, after) c, (unit)UOP_SLOT_ARGS, (after)
#else
#define UOP_PARAMS struct cpu *c, struct uop *u
#endif

struct uop;
typedef struct uop *(*uop_fn)(UOP_PARAMS);

struct uop {
    uop_then next;       /* handler of the uop that runs after it; heads and stubs: the handler that gets the unit behind it */
    uint16_t a, x;       /* byte offsets into struct cpu: destination (or only operand), index; compare with memory and branch: an immediate */
    uint16_t b;          /* source (or base) */
    uint16_t pos;        /* offset in its page of the instruction it belongs to; heads: where the trace begins */
    int32_t disp;        /* displacement, small immediate; stubs: see trace.c */
    uint8_t insn;        /* index of its instruction in the trace: instructions retired before it */
    uint8_t count;       /* exits: instructions retired when it leaves */
    uint8_t scale;       /* index shift; vectors: alignment mask of the memory operand */
    uint8_t misc;        /* immediate byte of vectors, condition ... */
    union {
        uint64_t imm;
        struct uop *link; /* exits: the head or stub where they lead */
        const void *ptr;
        uop_then self;    /* CALL r: its own handler */
    } v;
};
/* Second unit of a memory uop: its private one-page translation. Hit: same page, same generation, not over the page's end. */
struct uop_page {
    uint64_t page;       /* linear */
    uintptr_t addend;    /* host address = linear address + addend */
    uint32_t generation;
    uint8_t seg;         /* SEG_SS: a non-canonical address is #SS */
    uint8_t run;         /* heads of handler_stack_run(): 1 pushes, 2 pops */
    uint16_t cell;       /* of a run's sixth register */
    union {
        uop_then self;    /* the uop's own handler */
        struct uop *link; /* CALL: the head of the trace at its return address, or NULL; far stubs: where they lead */
    } v;
};
EMU_STATIC_ASSERT(sizeof(struct uop_page) <= sizeof(struct uop), uop_page_fits);
#define UOP_PAGE(u) ((struct uop_page *)(void *)((u) + 1))

#define UOP_FN(name) static EMU_TAIL_ATTR struct uop *name(UOP_PARAMS)
#define UOP_FN_PRIV(name) EMU_PRIV EMU_NOINLINE EMU_TAIL_ATTR struct uop *name(UOP_PARAMS) /* apart: in a hot handler it would need a frame */
#if EMU_TAIL_CALLS
#define UOP_SETTLED(x) __asm__("" : "+r"(x)) /* x is computed, once: compilers would add to the old one for each use */
#define UOP_AT(handler, unit)                                                                                          \
    do {                                                                                                               \
        uop_fn to_ = (uop_fn)(handler);                                                                                \
        u = (unit);                                                                                                    \
        UOP_SETTLED(u);                                                                                                \
        EMU_MUSTTAIL return to_(UOP_ARGS(u, u->next));                                                                 \
    } while (0)
#define UOP_ON(units) UOP_AT(then, u + (units)) /* the next uop, that many units on */
#define UOP_TAIL(handler) EMU_MUSTTAIL return handler(UOP_ARGS(u, then)) /* the same uop, another handler */
#define UOP_LATE(units)                                                                                                \
    do { /* UOP_ON() after a call, which would have had to save `then` */                                              \
        then = u->next;                                                                                                \
        UOP_ON(units);                                                                                                 \
    } while (0)
#else
#define UOP_ON(units) return c->then = u->next, u + (units)
#define UOP_AT(handler, unit) return c->then = (uop_then)(handler), (unit)
#define UOP_TAIL(handler) return handler(c, u)
#define UOP_LATE(units) UOP_ON(units)
#endif
#define UOP_NEXT UOP_ON(1)
#define UOP_NEXT_MEM UOP_ON(2)
#define UOP_GO(link)                                                                                                   \
    do {                                                                                                               \
        struct uop *head_ = (link);                                                                                    \
        UOP_AT(head_->next, head_ + 1);                                                                                \
    } while (0)
#define UOP_AGAIN UOP_AT(UOP_PAGE(u)->v.self, u) /* a memory uop, from its beginning */
#define UOP_IS(unit, handler) ((unit)->next == (uop_then)(handler)) /* heads and stubs */

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
enum { SLOT_REG0 = GPR_RAX, SLOT_REG1 = GPR_RDX, SLOT_REG2 = GPR_RCX, SLOT_REG3 = GPR_RDI };
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

/* ---- what the handlers' macros are made of: sz is 1, 2, 4, 8 ---- */
#define UTYPE_1 uint8_t
#define UTYPE_2 uint16_t
#define UTYPE_4 uint32_t
#define UTYPE_8 uint64_t
#define STYPE_1 int8_t
#define STYPE_2 int16_t
#define STYPE_4 int32_t
#define STYPE_8 int64_t
#define LOG_1 0u
#define LOG_2 1u
#define LOG_4 2u
#define LOG_8 3u
#define PUT_BYTE(k, f, v) PUT(k, f, (GET(k, f) & ~UINT64_C(0xFF)) | (uint8_t)(v))
#define PUTS_1(k, f, v) PUT_BYTE(k, f, v)
#define PUTS_2(k, f, v) PUT(k, f, (GET(k, f) & ~UINT64_C(0xFFFF)) | (uint16_t)(v))
#define PUTS_4(k, f, v) PUT(k, f, (uint32_t)(v))
#define PUTS_8(k, f, v) PUT(k, f, (uint64_t)(v))
#define GETS(k, f, sz) ((UTYPE_##sz)GET(k, f))
#define UOP_SX(v, sz) ((uint64_t)(int64_t)(STYPE_##sz)(v))
#define UOP_IMM ((uint64_t)(int64_t)u->disp)
/* The source first: that of INC and DEC is the carry that the old record gives. */
#define SETF(kind, sz, r, s) (c->flag_source = (s), c->flag_kind = (kind) | LOG_##sz, c->flag_result = UOP_SX(r, sz))

#define EXPR_add(d, s) ((d) + (s))
#define EXPR_sub(d, s) ((d) - (s))
#define EXPR_and(d, s) ((d) & (s))
#define EXPR_or(d, s) ((d) | (s))
#define EXPR_xor(d, s) ((d) ^ (s))
#define KIND_add FLAGK_ADD
#define KIND_sub FLAGK_SUB
#define KIND_and FLAGK_LOGIC
#define KIND_or FLAGK_LOGIC
#define KIND_xor FLAGK_LOGIC

#define NAME_RR(kb, ka, stem) stem##_##ka##kb,
#define NAME_RI(ka, stem) stem##_##ka,
#define TAB_RR(stem) { EACH_KIND2(NAME_RR, stem) }
#define TAB_RI(stem) { EACH_KIND(NAME_RI, stem) }
#define NAME_RRR(kx, kb, ka, stem) stem##_##ka##kb##kx,
#define TAB_RRR(stem) { EACH_KIND3(NAME_RRR, stem) }
typedef uop_fn uop_table_rr[UOP_KINDS * UOP_KINDS];
typedef uop_fn uop_table_ri[UOP_KINDS];

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

/* Handlers by operation, size and operand kinds (0.. UOP_KINDS - 1, the last is R); NULL: there is none. */
EMU_PRIV uop_fn handler_alu_rr(unsigned op, unsigned size, bool flags, unsigned ka, unsigned kb); /* 1 and 2 bytes: cells only, but CMP and TEST */
EMU_PRIV uop_fn handler_alu_ri(unsigned op, unsigned size, bool flags, unsigned ka);
EMU_PRIV uop_fn handler_alu_high(unsigned op, unsigned ka);
EMU_PRIV uop_fn handler_carry(unsigned op, unsigned size, bool immediate);
EMU_PRIV uop_fn handler_unary(unsigned op, unsigned size, bool flags, bool carry, unsigned ka);
EMU_PRIV uop_fn handler_shift_ri(unsigned op, unsigned size, bool flags, unsigned ka);
EMU_PRIV uop_fn handler_shift_cl(unsigned op, unsigned size, bool flags, unsigned ka);
EMU_PRIV uop_fn handler_shift_double(unsigned op, unsigned size); /* between cells */
EMU_PRIV uop_fn handler_mov_rr(unsigned dst, unsigned src, bool sx, unsigned ka, unsigned kb);
EMU_PRIV uop_fn handler_mov_pair(void); /* two adjacent 64-bit moves between cells */
EMU_PRIV uop_fn handler_mov_ri(unsigned size, unsigned ka);
EMU_PRIV uop_fn handler_xchg_rr(unsigned size, unsigned ka, unsigned kb);
EMU_PRIV uop_fn handler_lea(unsigned size, bool index, unsigned ka, unsigned kb, unsigned kx);
EMU_PRIV uop_fn handler_imul(unsigned size, bool immediate, unsigned ka, unsigned kb);
EMU_PRIV uop_fn handler_imul_flags(unsigned size, bool immediate); /* between cells; 4 and 8 bytes */
EMU_PRIV uop_fn handler_mul(unsigned op, unsigned size, unsigned ka);
EMU_PRIV uop_fn handler_extend_rax(bool into_rdx, unsigned size);
EMU_PRIV uop_fn handler_bits(unsigned op, unsigned size);
EMU_PRIV uop_fn handler_setcc(unsigned ka);
EMU_PRIV uop_fn handler_cmov(unsigned size, unsigned ka, unsigned kb);
EMU_PRIV uop_fn handler_spill(unsigned ka);
EMU_PRIV uop_fn handler_reload(unsigned ka);
/* handlers_mem.c; all take two units. index: kx counts. */
enum uop_load { LOAD_Z1, LOAD_Z2, LOAD_4, LOAD_8, LOAD_S1_4, LOAD_S2_4, LOAD_S1_8, LOAD_S2_8, LOAD_S4_8, LOAD_M1, LOAD_M2, LOAD_COUNT }; /* M: merged into the register */
EMU_PRIV bool handler_load_has_index(enum uop_load what);
EMU_PRIV uop_fn handler_load(enum uop_load what, bool index, unsigned ka, unsigned kb, unsigned kx);
EMU_PRIV uop_fn handler_store(unsigned size, bool index, unsigned ka, unsigned kb, unsigned kx);
EMU_PRIV uop_fn handler_store_imm(unsigned size, unsigned kb);
EMU_PRIV uop_fn handler_alu_rm(unsigned op, unsigned size, bool flags, unsigned ka, unsigned kb); /* register op= memory, CMP; 1 and 2 bytes as above */
EMU_PRIV uop_fn handler_alu_mr(unsigned op, unsigned size, bool flags, unsigned ka, unsigned kb); /* memory op= register, CMP, TEST; the same */
EMU_PRIV uop_fn handler_alu_mi(unsigned op, unsigned size, bool flags, unsigned kb);              /* memory op= immediate, CMP, TEST */
EMU_PRIV uop_fn handler_unary_m(unsigned op, unsigned size, unsigned kb);                          /* INC, DEC, NEG, NOT; flags recorded */
EMU_PRIV uop_fn handler_xchg_m(unsigned size, unsigned ka, unsigned kb);
EMU_PRIV uop_fn handler_exchange_m(unsigned op, unsigned size); /* XADD, CMPXCHG of 4 and 8 bytes; cells only, the accumulator in x */
EMU_PRIV uop_fn handler_bits_m(unsigned op, unsigned size); /* BT..BTC; cells only */
EMU_PRIV uop_fn handler_cmp_mi_jcc(unsigned op, unsigned size, bool flags, unsigned cc, unsigned kb);
EMU_PRIV uop_fn handler_push(unsigned size, unsigned ka);
EMU_PRIV uop_fn handler_push_imm(unsigned size);
EMU_PRIV uop_fn handler_pop(unsigned size, unsigned ka);
enum { STACK_RUN_PUSH = 1, STACK_RUN_POP = 2, STACK_RUN_MAX = 6 };
EMU_PRIV uop_fn handler_stack_run(unsigned kind, unsigned count); /* 2..STACK_RUN_MAX pushes or pops of 64-bit registers that are no slots, or one */
EMU_PRIV uop_fn handler_leave(void);
EMU_PRIV uop_fn handler_call(void);
EMU_PRIV uop_fn handler_call_reg(unsigned ka);
EMU_PRIV uop_fn handler_ret(void);
EMU_PRIV uop_fn handler_vec_load(unsigned size);
EMU_PRIV uop_fn handler_vec_store(unsigned size);
/* handlers_flow.c */
EMU_PRIV uop_fn handler_jcc(unsigned kind, unsigned cc);  /* kind: flag kind that is surely recorded, or FLAGK_END: unknown */
EMU_PRIV uop_fn handler_cond(unsigned kind, unsigned cc); /* the condition into TEMP */
EMU_PRIV uop_fn handler_cmp_jcc_rr(unsigned size, bool flags, unsigned cc, unsigned ka, unsigned kb);
EMU_PRIV uop_fn handler_cmp_jcc_ri(unsigned size, bool flags, unsigned cc, unsigned ka);
EMU_PRIV uop_fn handler_test_jcc(unsigned size, bool flags, unsigned cc, unsigned ka); /* TEST r, r */
EMU_PRIV uop_fn handler_alu_jcc_ri(unsigned op, unsigned size, bool flags, unsigned cc, unsigned ka); /* ADD SUB AND TEST immediate */
EMU_PRIV uop_fn handler_jmp_reg(unsigned ka);
UOP_FN_PRIV(uop_exit);
UOP_FN_PRIV(uop_exit_resolve); /* of the stub of a link that was not taken yet */
UOP_FN_PRIV(uop_exit_far);     /* of the stub of a link into another page; two units */
UOP_FN_PRIV(uop_dead);         /* of the head of a trace that is no more */
UOP_FN_PRIV(uop_goto);         /* of the head of a trace that was replaced */
UOP_FN_PRIV(uop_count);        /* the first uop of a tier-1 trace */
UOP_FN_PRIV(uop_leave);        /* the budget is used up: out, at where u->v.link leads */
UOP_FN_PRIV(uop_call);
UOP_FN_PRIV(uop_call_end);
UOP_FN_PRIV(uop_cli);            /* these four at CPL 0 only */
UOP_FN_PRIV(uop_sti);            /* not the last of its trace */
UOP_FN_PRIV(uop_stac);           /* exits, into traces of another key */
UOP_FN_PRIV(uop_clac);
UOP_FN_PRIV(uop_string_element); /* string.c: MOVS, STOS, LODS; else as uop_call */
UOP_FN_PRIV(uop_string_repeat);  /* REP MOVS, REP STOS, 64-bit addresses; else as uop_call */
UOP_FN_PRIV(uop_raise);        /* u->misc: vector; u->disp: error code or -1 */
UOP_FN_PRIV(uop_no_unit);      /* u->misc: 0 x87, 1 SSE, 2 MMX: #UD or #NM */
UOP_FN_PRIV(uop_mmx_begin);
UOP_FN_PRIV(uop_agen);
UOP_FN_PRIV(uop_vec_rr);
UOP_FN_PRIV(uop_clear_cell);
UOP_FN_PRIV(uop_flags);
UOP_FN_PRIV(uop_flags_keep);     /* around BT and the like: the other flags stay */
UOP_FN_PRIV(uop_flags_carry);
UOP_FN_PRIV(uop_miss_call);
UOP_FN_PRIV(uop_miss_call_reg);
UOP_FN_PRIV(uop_ret8_jump);
UOP_FN_PRIV(uop_indirect_miss);
EMU_PRIV void uop_enter(struct cpu *c, struct uop *head);

/* Direct-mapped cache of where indirect jumps lead (64-bit code, or a flat CS). */
struct uop_jump {
    uint64_t rip;
    uint32_t generation, key;
    const uint8_t *host; /* the target's page; NULL: more than that is to be checked when the generation is stale */
    struct uop *u; /* head */
};
#if defined(EMU_TORTURE)
#define UOP_JUMPS 8
#define UOP_JUMPS2 16
#else
#define UOP_JUMPS 4096
#define UOP_JUMPS2 32768
#endif
#define UOP_JUMPS_ALL (UOP_JUMPS + UOP_JUMPS2)
#define UOP_JUMP_ENTRY(rip) (&c->jumps[((rip) ^ ((rip) >> 12)) & (UOP_JUMPS - 1)])
#define UOP_JUMP_ENTRY2(rip) (&c->jumps[UOP_JUMPS + (((rip) ^ ((rip) >> 15)) & (UOP_JUMPS2 - 1))]) /* the same again, larger, for what is not there */
/* CALL, before it leaves: u->scale 1: u's page has the return address too, so that its trace is the same for every mapping of the page. */
#define UOP_PUSH_RETURN(address)                                                                                       \
    do {                                                                                                               \
        struct uop_return *return_ = &c->returns[c->return_top = (c->return_top + 1) & (CPU_RETURNS - 1u)];            \
        return_->rip = (address);                                                                                      \
        return_->u = UOP_PAGE(u)->v.link;                                                                              \
        return_->call = u;                                                                                             \
        return_->key = c->mode_key;                                                                                    \
        return_->generation = c->code_generation;                                                                      \
    } while (0)
#define UOP_CODE_VALID(tag) ((tag) == c->code_generation || (tag) == c->global_code_generation)
#define UOP_JUMP_HIT(j, target) ((j)->rip == (target) && (j)->key == c->mode_key && UOP_CODE_VALID((j)->generation))
#define UOP_CODE_PAGE(rip) ((rip) & ~UINT64_C(4095)) /* code_base there */
/* Out of a trace by u's link, when u->count instructions have retired. */
#define UOP_EXIT                                                                                                       \
    do {                                                                                                               \
        if (EMU_UNLIKELY((c->budget -= u->count) < 0))                                                                 \
            UOP_TAIL(uop_leave);                                                                                       \
        UOP_GO(u->v.link);                                                                                             \
    } while (0)
/* The same where the link mostly leads to another page: what uop_exit_far does, without the jump to it. */
#define UOP_EXIT_FAR                                                                                                   \
    do {                                                                                                               \
        struct uop *link_ = u->v.link;                                                                                 \
        if (EMU_UNLIKELY((c->budget -= u->count) < 0))                                                                 \
            UOP_TAIL(uop_leave);                                                                                       \
        if (UOP_IS(link_, uop_exit_far) && UOP_CODE_VALID(UOP_PAGE(link_)->generation) && UOP_PAGE(link_)->page == c->code_base) { \
            c->code_base = link_->v.imm;                                                                               \
            link_ = UOP_PAGE(link_)->v.link;                                                                           \
        }                                                                                                              \
        UOP_GO(link_);                                                                                                 \
    } while (0)
/* To a computed target (64-bit mode); the instruction's effects are done. */
#define UOP_JUMP_TO(j, target)                                                                                         \
    do {                                                                                                               \
        if (EMU_UNLIKELY((c->budget -= u->count) < 0)) {                                                               \
            UOP_SPILL;                                                                                                 \
            c->rip = (target);                                                                                         \
            return NULL;                                                                                               \
        }                                                                                                              \
        c->code_base = UOP_CODE_PAGE(target);                                                                          \
        UOP_GO((j)->u);                                                                                                \
    } while (0)
EMU_INLINE uint64_t uop_rip(const struct cpu *c, uint64_t offset)
{
    uint64_t rip = c->code_base + offset;
    return c->code_size == 8 ? rip : c->code_size == 4 ? (uint32_t)rip : (uint16_t)rip;
}

#define UOP_MISSES(va, size)                                                                                           \
    EMU_UNLIKELY(UOP_PAGE(u)->generation != c->generation || (va) - UOP_PAGE(u)->page > 4096u - (size))
/* Host pointer to `size` bytes at va; leaves the handler where they are not in the uop's page. rw: r, w or m. */
#define UOP_HOST(p, va, rw, size)                                                                                      \
    do {                                                                                                               \
        if (UOP_MISSES(va, size)) {                                                                                    \
            c->miss_va = (va);                                                                                         \
            UOP_TAIL(uop_miss_##rw##size);                                                                             \
        }                                                                                                              \
        (p) = (uint8_t *)(uintptr_t)((uintptr_t)(va) + UOP_PAGE(u)->addend);                                           \
    } while (0)

/* 16 bytes at once where guest and host agree: halves would have to meet again in the host's store buffer, which stalls it. */
EMU_ALWAYS_INLINE void vec_load16(union vec *d, const uint8_t *p)
{
#if EMU_BIG_ENDIAN
    d->q[0] = ld64le(p);
    d->q[1] = ld64le(p + 8);
#else
    memcpy(d, p, 16);
#endif
}
EMU_ALWAYS_INLINE void vec_store16(uint8_t *p, const union vec *s)
{
#if EMU_BIG_ENDIAN
    st64le(p, s->q[0]);
    st64le(p + 8, s->q[1]);
#else
    memcpy(p, s, 16);
#endif
}

/* ---- vector operations: VEC_FN(name) { ... } VEC_HANDLERS(name, bytes) gives name's register form and the form whose last operand is
 * `bytes` (4, 8, 16) of memory; in the row: ROW_VEC_H(...) instead of ROW_VEC(...). Inside, u->a is d, u->x is a, u->b is b or the base
 * register, u->misc the immediate, u->scale the alignment mask. ---- */
struct vec_handlers {
    uop_fn rr, rm;
    unsigned bytes;
};
#define VEC_LOAD_4(p) (c->vtmp[0].q[0] = ld32le(p), c->vtmp[0].q[1] = 0)
#define VEC_LOAD_8(p) (c->vtmp[0].q[0] = ld64le(p), c->vtmp[0].q[1] = 0)
#define VEC_LOAD_16(p) vec_load16(&c->vtmp[0], p)
#define VEC_HANDLERS(name, size)                                                                                       \
    UOP_FN(vech_rr_##name)                                                                                             \
    {                                                                                                                  \
        if (vec_##name(c, UOP_XMM(u->a), UOP_XMM(u->x), UOP_XMM(u->b), u->misc))                                       \
            UOP_TAIL(uop_fault);                                                                                       \
        UOP_LATE(1);                                                                                                   \
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
        UOP_LATE(2);                                                                                                   \
    }                                                                                                                  \
    static const struct vec_handlers vech_##name = { vech_rr_##name, vech_rm_##name, size };
#define ROW_VEC_H(enc, name, o1, o2, o3, needs, attr, fw, fn)                                                          \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, 0, NULL, vec_##fn, &vech_##fn }
/* A plain store: the low bytes of operand 1 go to operand 0 (memory form), or d = b by fn (register form). */
enum vec_op { VEC_OP_NONE, VEC_OP_STORE };
#define ROW_VEC_STORE(enc, name, o1, o2, o3, needs, attr, fw, fn)                                                      \
    { enc, name, { o1, o2, o3, 0 }, needs, HOW_VEC, attr, 0, fw, VEC_OP_STORE, NULL, vec_##fn, NULL }

/* ================= trace.c ================= */
enum {
    TRACE_MAX_INSNS = 64,
#if defined(EMU_TORTURE)
    TRACE_HOT = 2,
#else
    TRACE_HOT = 60, /* runs of a tier-1 trace before it is optimised */
#endif
    TRACE_STEP = 1, TRACE_TIER1 = 2, TRACE_TIER2 = 3
};
/* Bits of a trace's key beside those of enum mode_key. */
#define KEY_STEP (UINT32_C(1) << 31)    /* one instruction */
#define KEY_PARTIAL (UINT32_C(1) << 30) /* 16-bit code whose page begins before its segment: no link is unconditional */
struct code_page;
struct trace_link;
struct trace {
    struct trace *next; /* in its hash chain */
    struct uop *head;
    struct ram_block *block;
    uint64_t offset; /* of its first byte in the block */
    uint32_t key;
    uint16_t insns, bytes; /* bytes: of the path up to its end, for a step trace the instruction's length */
    uint8_t tier;
    bool straddles, dead;
    const struct insn_row *row; /* of its last instruction, or NULL */
    struct ram_block *block2; /* second page of an instruction that straddles two */
    uint64_t offset2;
    struct trace_link *incoming;
};
EMU_PRIV struct trace *trace_find(struct emu *e, struct ram_block *block, uint64_t offset, uint32_t key);
/* Builds the trace at c->rip, whose page is backed by host bytes at block, page_offset (block NULL: bytes copied from I/O; not cached).
 * NULL: cpu->fault tells of the second page. */
EMU_PRIV struct trace *trace_build(struct cpu *c, struct ram_block *block, uint64_t page_offset, unsigned offset, uint32_t key, unsigned tier, const uint8_t *copied,
                                   unsigned copied_size);
EMU_PRIV void trace_promote(struct cpu *c, struct uop *head);
EMU_PRIV void trace_link_stub(struct cpu *c, struct uop *stub, struct trace *t);
EMU_PRIV void trace_link_return(struct cpu *c, struct uop *call, uint64_t rip); /* rip: where the RET goes, in the CALL's page */
EMU_PRIV void trace_set_plain(struct emu *e, bool plain); /* for tests: every instruction by its plain-C function */
EMU_PRIV void trace_flush_pending(struct emu *e);
EMU_PRIV struct trace_stats *trace_stats_of(struct emu *e);

#endif
