/* test.h - the smallest test harness: TEST(name) { ... CHECK(cond) ... }, and TEST_MAIN with the list of tests.
 *
 * A failed CHECK prints file, line and the condition, marks the test failed and leaves it. The last line of output is
 * "N passed, N failed"; the exit status is 1 if any failed. An argument runs only the tests whose name contains it.
 */
#ifndef TEST_H
#define TEST_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*fn)(int *test_failed);
};

#define TEST(name) static void test_##name(int *test_failed)
#define TEST_CASE(name) { #name, test_##name }
#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                                                  \
            *test_failed = 1;                                                                                          \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)
/* Leaves the test uncounted; the runner repeats the line "skip NAME: why". */
#define SKIP(why)                                                                                                      \
    do {                                                                                                               \
        printf("skip %s: %s\n", __func__ + 5, why);                                                                    \
        *test_failed = 2;                                                                                              \
        return;                                                                                                        \
    } while (0)
/* Equal integers; prints both. */
#define CHECK_EQ(got, want)                                                                                            \
    do {                                                                                                               \
        uint64_t test_got = (uint64_t)(got), test_want = (uint64_t)(want);                                             \
        if (test_got != test_want) {                                                                                   \
            printf("%s:%d: %s is 0x%" PRIx64 ", wanted 0x%" PRIx64 "\n", __FILE__, __LINE__, #got, test_got,           \
                   test_want);                                                                                         \
            *test_failed = 1;                                                                                          \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

#define TEST_MAIN(...)                                                                                                 \
    int main(int argc, char **argv)                                                                                    \
    {                                                                                                                  \
        static const struct test_case cases[] = { __VA_ARGS__ };                                                       \
        int passed = 0, failed = 0;                                                                                    \
        size_t i;                                                                                                      \
        for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {                                                         \
            int bad = 0;                                                                                               \
            if (argc > 1 && !strstr(cases[i].name, argv[1]))                                                           \
                continue;                                                                                              \
            cases[i].fn(&bad);                                                                                         \
            if (bad == 2)                                                                                              \
                continue;                                                                                              \
            if (bad)                                                                                                   \
                printf("FAIL %s\n", cases[i].name), failed++;                                                          \
            else                                                                                                       \
                printf("ok   %s\n", cases[i].name), passed++;                                                          \
            fflush(stdout);                                                                                            \
        }                                                                                                              \
        printf("%d passed, %d failed\n", passed, failed);                                                              \
        return failed ? 1 : 0;                                                                                         \
    }

#endif
