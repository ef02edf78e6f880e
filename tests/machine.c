/* machine.c - option lists, sizes, memory map, virtual clock and event queue. */
#include "machine.h"
#include "test.h"

/* A machine with clock and memory only, on instruction time so that nothing depends on the host. */
static struct emu *bare_machine(void)
{
    struct emu *e = emu_new(NULL);
    struct err err;
    if (!e || clock_create(e) || memory_create(e, &err))
        return NULL;
    e->config.icount = true;
    return e;
}

TEST(sizes_take_suffixes_and_fractions)
{
    uint64_t v = 0;
    CHECK_EQ(parse_size("64K", 'b', &v), 0);
    CHECK_EQ(v, 65536);
    CHECK_EQ(parse_size("1.5G", 'b', &v), 0);
    CHECK_EQ(v, UINT64_C(1610612736));
    CHECK_EQ(parse_size("512", 'm', &v), 0);
    CHECK_EQ(v, UINT64_C(536870912));
    CHECK_EQ(parse_size("0x10k", 'b', &v), 0);
    CHECK_EQ(v, 16384);
    CHECK(parse_size("", 'b', &v) != 0);
    CHECK(parse_size("12Q", 'b', &v) != 0);
    CHECK(parse_size("99999999999999999999G", 'b', &v) != 0);
    CHECK(parse_size("16777216T", 'b', &v) != 0); /* 2^64 */
}

TEST(option_lists_keep_commas_order_and_repetition)
{
    struct emu *e = bare_machine();
    struct options o;
    struct err err;
    bool wait = true;
    CHECK_EQ(options_parse(&o, e, "-x", "a,,b,key=1,key=2,server,nowait", "file", &err), 0);
    CHECK(!strcmp(options_get(&o, "file"), "a,b"));
    CHECK(!strcmp(options_get(&o, "key"), "2"));
    CHECK(!strcmp(options_get_nth(&o, "key", 0), "1"));
    CHECK(options_get_nth(&o, "key", 2) == NULL);
    CHECK(!strcmp(options_get(&o, "server"), "on"));
    CHECK_EQ(options_bool(&o, "wait", &wait, &err), 0);
    CHECK(!wait);
    CHECK_EQ(options_check_used(&o, &err), 0);
    options_free(&o);
    CHECK_EQ(options_parse(&o, e, "-x", "one=1,other=2", NULL, &err), 0);
    options_get(&o, "one");
    CHECK_EQ(options_check_used(&o, &err), EMU_EINVAL);
    CHECK(strstr(err.text, "other") != NULL);
    options_free(&o);
    emu_destroy(e);
}

static int fired[4], fired_count;
static void on_timer(void *opaque) { fired[fired_count++ & 3] = *(int *)opaque; }

TEST(timers_fire_in_deadline_then_arming_order)
{
    struct emu *e = bare_machine();
    struct timer t[4];
    int ids[4] = { 0, 1, 2, 3 }, i;
    fired_count = 0;
    for (i = 0; i < 4; i++)
        timer_init(&t[i], e, on_timer, &ids[i]);
    timer_arm(&t[0], 300);
    timer_arm(&t[1], 100);
    timer_arm(&t[2], 100);
    timer_arm(&t[3], 50);
    timer_cancel(&t[3]);
    CHECK_EQ(clock_next_deadline(e), 100);
    clock_warp_to(e, 99);
    clock_run_timers(e);
    CHECK_EQ(fired_count, 0);
    clock_warp_to(e, 1000);
    clock_run_timers(e);
    CHECK_EQ(fired_count, 3);
    CHECK(fired[0] == 1 && fired[1] == 2 && fired[2] == 0);
    CHECK_EQ(clock_next_deadline(e), INT64_MAX);
    emu_destroy(e);
}

static uint64_t reg_value;
static uint64_t reg_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque;
    return size == 4 ? reg_value + offset : UINT64_C(0xBAD);
}
static void reg_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)opaque;
    if (size == 4 && offset == 0)
        reg_value = value;
}
static const struct region_ops reg_ops = { reg_read, reg_write, 4, 4, false };

TEST(narrow_and_wide_accesses_are_fitted_to_the_device)
{
    struct emu *e = bare_machine();
    struct region r;
    region_init_io(&r, "test", &reg_ops, NULL, 16);
    CHECK_EQ(region_add(e, &e->memory, &r, 0xD0000000, 0), 0);
    reg_value = 0x11223344;
    CHECK_EQ(mem_ld(e, 0xD0000001, 1), 0x33);
    CHECK_EQ(mem_ld(e, 0xD0000002, 2), 0x1122);
    CHECK_EQ(mem_ld(e, 0xD0000000, 8), (UINT64_C(0x11223348) << 32) | 0x11223344);
    mem_st(e, 0xD0000001, 0xAA, 1);
    CHECK_EQ(reg_value, 0x1122AA44);
    CHECK_EQ(mem_ld(e, 0xD0000010, 4), 0xFFFFFFFF); /* behind it: nobody */
    region_remove(e, &e->memory, &r);
    CHECK_EQ(mem_ld(e, 0xD0000000, 4), 0xFFFFFFFF);
    emu_destroy(e);
}

TEST(reads_and_writes_can_have_different_owners)
{
    struct emu *e = bare_machine();
    struct err err;
    struct ram_block *ram = ram_block_create(e, "ram", 65536, false, &err), *rom = ram_block_create(e, "rom", 4096, true, &err);
    struct region low, high, shadow;
    struct phys_page page;
    CHECK(ram && rom);
    region_init_ram(&low, "ram", ram, 0, 65536);
    region_init_ram(&high, "rom", rom, 0, 4096);
    region_init_ram(&shadow, "shadow", ram, 0x4000, 4096);
    shadow.access = REGION_WRITES;
    CHECK(!region_add(e, &e->memory, &low, 0, 0) && !region_add(e, &e->memory, &high, 0x4000, 1) && !region_add(e, &e->memory, &shadow, 0x4000, 2));
    CHECK_EQ(mem_load(e, 0x4000, "ROM", 3), 0);
    mem_write(e, 0x4000, "ram", 3);
    CHECK_EQ(mem_ld(e, 0x4000, 1), 'R');
    CHECK(!memcmp(ram->bytes + 0x4000, "ram", 3));
    mem_resolve(e, 0x4000, &page);
    CHECK(page.block == rom && !page.writable_direct);
    region_set(e, &e->memory, &high, 0x4000, false);
    CHECK_EQ(mem_ld(e, 0x4000, 1), 'r');
    CHECK(mem_is_ram(e, 0x3000, 0x3000));
    CHECK(!mem_is_ram(e, 0xF000, 0x2000));
    emu_destroy(e);
}

TEST(writes_mark_tracked_pages_dirty)
{
    struct emu *e = bare_machine();
    struct err err;
    struct ram_block *ram = ram_block_create(e, "ram", 16384, false, &err);
    struct region r;
    CHECK(ram != NULL);
    region_init_ram(&r, "ram", ram, 0, 16384);
    CHECK_EQ(region_add(e, &e->memory, &r, 0, 0), 0);
    mem_track_dirty(e, ram, 0, 16384);
    mem_st(e, 0x1FFF, 0x1234, 2); /* crosses from page 1 to page 2 */
    CHECK_EQ(ram->page_flags[0], PAGE_TRACKED);
    CHECK_EQ(ram->page_flags[1], PAGE_DIRTY);
    CHECK_EQ(ram->page_flags[2], PAGE_DIRTY);
    CHECK_EQ(ram->page_flags[3], PAGE_TRACKED);
    emu_destroy(e);
}

TEST(arithmetic_helpers_agree_with_long_division)
{
    uint64_t high, rem, low = mul64(UINT64_C(0xFFFFFFFFFFFFFFFF), UINT64_C(0xFFFFFFFFFFFFFFFF), &high);
    CHECK_EQ(low, 1);
    CHECK_EQ(high, UINT64_C(0xFFFFFFFFFFFFFFFE));
    CHECK_EQ(div128(high, low, UINT64_C(0xFFFFFFFFFFFFFFFF), &rem), UINT64_C(0xFFFFFFFFFFFFFFFF));
    CHECK_EQ(rem, 0);
    CHECK_EQ(muls64((uint64_t)-3, 5, &high), (uint64_t)-15);
    CHECK_EQ(high, UINT64_MAX);
    CHECK_EQ(muldiv64(UINT64_C(1000000000), UINT64_C(3579545), UINT64_C(1000000000)), 3579545);
    CHECK_EQ(sar64(UINT64_C(0x8000000000000000), 63), UINT64_MAX);
    CHECK_EQ((uint64_t)sext64(0x80, 8), UINT64_C(0xFFFFFFFFFFFFFF80));
}

TEST_MAIN(TEST_CASE(sizes_take_suffixes_and_fractions), TEST_CASE(option_lists_keep_commas_order_and_repetition),
          TEST_CASE(timers_fire_in_deadline_then_arming_order), TEST_CASE(narrow_and_wide_accesses_are_fitted_to_the_device),
          TEST_CASE(reads_and_writes_can_have_different_owners), TEST_CASE(writes_mark_tracked_pages_dirty),
          TEST_CASE(arithmetic_helpers_agree_with_long_division))
