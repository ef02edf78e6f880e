/* tests/cpu_x87.c - what cpu_diff.c cannot see from user mode in 32- and 64-bit code: real-mode environments, FERR#, transcendental functions
 * against independently computed values (arbitrary precision decimals; pi of 66 bits where SDM vol. 1 §8.3.8 says so), and the tag word. */
#include "machine.h"
#include "cpu/cpu.h"
#include "cpu/vec.h"
#include "test.h"

static struct emu *machine_with(const uint8_t *code, size_t size, uint32_t at, uint16_t cs, uint16_t ds)
{
    static const char *const argv[] = { "-m", "4", "-nodefaults", "-display", "none", "-icount", "0" };
    struct emu *e = emu_new(NULL);
    struct cpu_boot b;
    char error[400] = "";
    if (!e || emu_configure(e, sizeof argv / sizeof *argv, argv, error, sizeof error)) {
        printf("%s\n", error);
        return NULL;
    }
    memset(&b, 0, sizeof b);
    b.kind = CPU_BOOT_REAL;
    b.cs = cs;
    b.ds = b.es = b.ss = ds;
    b.rip = at - cs * 16u;
    b.gpr[GPR_RSP] = 0x7000;
    cpu_load_boot_state(e->cpus[0], &b);
    mem_write(e, at, code, size);
    return e;
}
static void run(struct emu *e, int64_t insns)
{
    struct emu_limits limits = { -1, 0, 0 };
    struct emu_result result;
    limits.instructions = insns;
    emu_run(e, &limits, &result);
}

/* SDM vol. 1 figures 8-10 and 8-12: linear addresses, the opcode's 11 bits. */
TEST(fnstenv_in_real_mode_stores_linear_addresses_and_opcode)
{
    static const uint8_t code[] = {
        0xDB, 0xE3, 0xD9, 0xE8,            /* fninit; fld1 */
        0xD8, 0x06, 0x34, 0x12,            /* fadd dword [1234h] */
        0xD9, 0x36, 0x00, 0x05,            /* fnstenv [500h], 16-bit form */
        0x66, 0xD9, 0x36, 0x40, 0x05, 0xF4 /* fnstenv [540h], 32-bit form; hlt */
    };
    struct emu *e = machine_with(code, sizeof code, 0x18000, 0x1800, 0x2000);
    CHECK(e);
    run(e, 1000);
    CHECK_EQ(mem_ld(e, 0x20500, 2), 0x37F);
    CHECK_EQ(mem_ld(e, 0x20502, 2), 0x3800);       /* TOP = 7 */
    CHECK_EQ(mem_ld(e, 0x20504, 2), 0x3FFF);       /* register 7 valid */
    CHECK_EQ(mem_ld(e, 0x20506, 2), 0x8004);       /* instruction at 18004h */
    CHECK_EQ(mem_ld(e, 0x20508, 2), 0x1000 | 0x006);
    CHECK_EQ(mem_ld(e, 0x2050A, 2), 0x1234);       /* operand at 21234h */
    CHECK_EQ(mem_ld(e, 0x2050C, 2), 0x2000);
    CHECK_EQ(mem_ld(e, 0x2054C, 2), 0x8004);
    CHECK_EQ(mem_ld(e, 0x20550, 4), 1u << 12 | 0x006);
    CHECK_EQ(mem_ld(e, 0x20554, 2), 0x1234);
    CHECK_EQ(mem_ld(e, 0x20558, 4), 2u << 12);
    emu_destroy(e);
}

/* SDM vol. 1 §D.2.1: with CR0.NE clear an unmasked exception goes out on FERR#, on a PC to IRQ 13; port F0h and FNCLEX end it. */
TEST(unmasked_exception_without_ne_arrives_as_irq_13)
{
    static const uint8_t code[] = {
        0xFA, 0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0, 0xBC, 0x00, 0x70, /* cli; segments 0; sp = 7000h */
        0xB0, 0x11, 0xE6, 0x20, 0xE6, 0xA0, 0xB0, 0x08, 0xE6, 0x21, 0xB0, 0x70, /* 8259s: vectors 08h and 70h, */
        0xE6, 0xA1, 0xB0, 0x04, 0xE6, 0x21, 0xB0, 0x02, 0xE6, 0xA1, 0xB0, 0x01, /* cascade on 2, 8086 mode, */
        0xE6, 0x21, 0xE6, 0xA1, 0xB0, 0xFB, 0xE6, 0x21, 0xB0, 0xDF, 0xE6, 0xA1, /* only IRQ 2 and 13 unmasked */
        0xC7, 0x06, 0xD4, 0x01, 0x54, 0x80, 0xC7, 0x06, 0xD6, 0x01, 0x00, 0x00, /* vector 75h = 0:8054h */
        0xDB, 0xE3, 0xC7, 0x06, 0x00, 0x05, 0x7B, 0x03, 0xD9, 0x2E, 0x00, 0x05, /* fninit; control word 37Bh: ZM clear */
        0xD9, 0xE8, 0xD9, 0xEE, 0xFB, 0xDE, 0xF9, 0x90, 0xD9, 0xEE, 0xEB, 0xFE, /* fld1; fldz; sti; fdivp; nop; fldz; jmp $ */
        0xDD, 0x3E, 0x10, 0x05, 0x30, 0xC0, 0xE6, 0xF0, 0xDB, 0xE2, 0xFE, 0x06, /* 8054h: fnstsw [510h]; out F0h; fnclex; */
        0x20, 0x05, 0xB0, 0x20, 0xE6, 0xA0, 0xE6, 0x20, 0xCF                    /* inc byte [520h]; EOIs; iret */
    };
    struct emu *e = machine_with(code, sizeof code, 0x8000, 0, 0);
    CHECK(e);
    run(e, 20000);
    CHECK_EQ(mem_ld(e, 0x510, 2) & 0x80FF, 0x8084); /* B, ES, ZE */
    CHECK_EQ(mem_ld(e, 0x520, 1), 1);               /* once */
    emu_destroy(e);
}

static struct sf_num number(uint16_t exp, uint64_t mant)
{
    struct x87_reg r;
    r.exp = exp;
    r.mant = mant;
    return sf_unpack80(&r);
}
static bool is(const struct sf_wide *w, uint16_t exp, uint64_t mant)
{
    struct sf_env env;
    struct sf_num n;
    struct x87_reg r;
    memset(&env, 0, sizeof env);
    env.masked = SF_ALL_FLAGS;
    env.x87 = true;
    n = sf_round(&env, &sf_f80, w);
    r = sf_pack80(&n);
    if (r.exp != exp || r.mant != mant)
        printf("got %04X.%016" PRIX64 ", wanted %04X.%016" PRIX64 "\n", r.exp, r.mant, exp, mant);
    return r.exp == exp && r.mant == mant;
}
TEST(transcendental_functions_are_correctly_rounded)
{
    struct sf_num one = number(0x3FFF, UINT64_C(0x8000000000000000)), big = number(0x3FFF + 40, UINT64_C(0x8000000000000000)), three = number(0x4000, UINT64_C(0xC000000000000000)),
                  half = number(0x3FFE, UINT64_C(0x8000000000000000)), ten = number(0x4002, UINT64_C(0xA000000000000000)), small = number(0x3FFF - 10, UINT64_C(0x8000000000000000));
    struct sf_wide s, c;
    x87_math_sincos(&one, &s, &c);
    CHECK(is(&s, 0x3FFE, UINT64_C(0xD76AA47848677021)));
    CHECK(is(&c, 0x3FFE, UINT64_C(0x8A51407DA8345C92)));
    s = x87_math_tan(&one);
    CHECK(is(&s, 0x3FFF, UINT64_C(0xC75922E5F71D2DC5)));
    x87_math_sincos(&big, &s, &c); /* 2^40, reduced by the pi of 66 bits */
    CHECK(is(&s, 0xBFFD, UINT64_C(0xCFB89143D3C63219)));
    s = x87_math_atan2(&one, &three);
    CHECK(is(&s, 0x3FFD, UINT64_C(0xA4BC7D1934F70924)));
    s = x87_math_exp2m1(&half);
    CHECK(is(&s, 0x3FFD, UINT64_C(0xD413CCCFE7799211)));
    s = x87_math_ylog2(&one, &ten);
    CHECK(is(&s, 0x4000, UINT64_C(0xD49A784BCD1B8AFE)));
    s = x87_math_ylog2p1(&one, &small);
    CHECK(is(&s, 0x3FF5, UINT64_C(0xB89329BA1FA2A0FD)));
}

/* SDM vol. 1 §8.1.7. */
TEST(tag_word_tells_valid_zero_special_empty)
{
    static struct cpu c;
    c.x87_tags = 0xF0;
    c.x87[0].exp = 0x3FFF, c.x87[0].mant = UINT64_C(1) << 63;
    c.x87[1].exp = 0, c.x87[1].mant = 0;
    c.x87[2].exp = 0x7FFF, c.x87[2].mant = UINT64_C(1) << 63;
    c.x87[3].exp = 0, c.x87[3].mant = 1;
    CHECK_EQ(x87_tag_word(&c), 0xFFA4);
}

TEST_MAIN(TEST_CASE(fnstenv_in_real_mode_stores_linear_addresses_and_opcode), TEST_CASE(unmasked_exception_without_ne_arrives_as_irq_13),
          TEST_CASE(transcendental_functions_are_correctly_rounded), TEST_CASE(tag_word_tells_valid_zero_special_empty))
