/* tests/bench/native.c - the same kernels as a program of this host: where the checksums come from. Same options and output
 * as bare.c. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
    const struct bench_kernel *k;
    const char *only = NULL;
    int i, quick = 0;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "quick") == 0)
            quick = 1;
        else if (strncmp(argv[i], "only=", 5) == 0)
            only = argv[i] + 5;
    }
    printf("begin\n");
    for (k = bench_kernels; k->name; k++) {
        double from;
        uint64_t sum;
        if (only && strcmp(k->name, only) != 0)
            continue;
        from = now_us();
        sum = k->run(quick ? (k->rounds + 9) / 10 : k->rounds);
        printf("kernel %s %08lx%08lx %.0f\n", k->name, (unsigned long)(sum >> 32), (unsigned long)(sum & 0xffffffff), now_us() - from);
    }
    printf("end\n");
    return 0;
}
