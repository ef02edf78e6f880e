/* driver.c - stands in for libFuzzer where there is none: LLVMFuzzerTestOneInput() gets the files that the arguments name, then mutations of them.
 *
 *   -runs=N             inputs (default 10000)      -seed=N     of the generator (default 1): the same seed gives the same inputs
 *   -max_total_time=S   ends after S seconds        -max_len=N  bytes of an input (default 4096)
 *   FILE or FOLDER      seeds; none: an empty one
 *   -keep=1             writes each input to crash-input before it runs (slow): run a crashing seed again with it
 * No coverage guides it: bytes change, blocks move and repeat, small integers and lengths are put in.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DRIVER_SEEDS = 1024, DRIVER_LEN = 1 << 20 };
static struct {
    uint8_t *bytes;
    size_t size;
} driver_seeds[DRIVER_SEEDS];
static size_t driver_count;
static uint64_t driver_state = 1;
static int driver_keep;

static uint32_t driver_random(uint32_t n)
{
    driver_state ^= driver_state << 13;
    driver_state ^= driver_state >> 7;
    driver_state ^= driver_state << 17;
    return n ? (uint32_t)((driver_state >> 16) % n) : 0;
}

static void driver_add(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    if (!copy || driver_count == DRIVER_SEEDS) {
        free(copy);
        return;
    }
    memcpy(copy, bytes, size);
    driver_seeds[driver_count].bytes = copy;
    driver_seeds[driver_count++].size = size;
}

static void driver_load(const char *path)
{
    static uint8_t bytes[DRIVER_LEN];
    char below[4096];
    struct dirent *d;
    FILE *f;
    DIR *dir = opendir(path);
    if (dir) {
        while ((d = readdir(dir)))
            if (d->d_name[0] != '.') {
                snprintf(below, sizeof below, "%s/%s", path, d->d_name);
                driver_load(below);
            }
        closedir(dir);
    } else if ((f = fopen(path, "rb"))) {
        driver_add(bytes, fread(bytes, 1, sizeof bytes, f));
        fclose(f);
    }
}

static size_t driver_mutate(uint8_t *b, size_t size, size_t max)
{
    static const uint8_t odd[] = { 0, 1, 2, 3, 4, 7, 8, 16, 20, 31, 32, 40, 63, 64, 127, 128, 129, 192, 254, 255 };
    size_t at = driver_random((uint32_t)size + 1), n, i;
    switch (driver_random(7)) {
    case 0:
        if (at < size)
            b[at] ^= (uint8_t)(1u << driver_random(8));
        break;
    case 1:
        if (at < size)
            b[at] = odd[driver_random(sizeof odd)];
        break;
    case 2:
        for (i = at; i < size && i < at + 4; i++)
            b[i] = (uint8_t)driver_random(256);
        break;
    case 3: /* out */
        n = driver_random(16) + 1u;
        if (at + n <= size) {
            memmove(b + at, b + at + n, size - at - n);
            size -= n;
        }
        break;
    case 4: /* in */
        n = driver_random(16) + 1u;
        if (size + n <= max) {
            memmove(b + at + n, b + at, size - at);
            for (i = 0; i < n; i++)
                b[at + i] = (uint8_t)driver_random(256);
            size += n;
        }
        break;
    case 5: /* a part of it again */
        n = driver_random(64) + 1u;
        if (at + n <= size && size + n <= max) {
            memmove(b + at + n, b + at, size - at);
            size += n;
        }
        break;
    default: /* the end of another seed behind it */
        i = driver_random((uint32_t)driver_count);
        n = driver_seeds[i].size;
        if (at + n <= max) {
            memcpy(b + at, driver_seeds[i].bytes, n);
            size = at + n > size ? at + n : size;
        }
        break;
    }
    return size;
}

static void driver_run(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1); /* exactly as large: a reader beyond is seen */
    FILE *f = driver_keep ? fopen("crash-input", "wb") : NULL;
    if (f) {
        fwrite(bytes, 1, size, f);
        fclose(f);
    }
    memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

int main(int argc, char **argv)
{
    static uint8_t bytes[DRIVER_LEN];
    unsigned long runs = 10000, done = 0, max = 4096, i;
    long seconds = 0;
    time_t end;
    int a;
    for (a = 1; a < argc; a++) {
        if (!strncmp(argv[a], "-runs=", 6))
            runs = strtoul(argv[a] + 6, NULL, 10);
        else if (!strncmp(argv[a], "-seed=", 6))
            driver_state = strtoul(argv[a] + 6, NULL, 10) * 2 + 1;
        else if (!strncmp(argv[a], "-max_len=", 9))
            max = strtoul(argv[a] + 9, NULL, 10);
        else if (!strncmp(argv[a], "-max_total_time=", 16))
            seconds = strtol(argv[a] + 16, NULL, 10);
        else if (!strcmp(argv[a], "-keep=1"))
            driver_keep = 1;
        else if (argv[a][0] != '-')
            driver_load(argv[a]);
    }
    if (max > DRIVER_LEN)
        max = DRIVER_LEN;
    if (!driver_count)
        driver_add(bytes, 0);
    end = time(NULL) + seconds;
    for (i = 0; i < driver_count; i++, done++)
        driver_run(driver_seeds[i].bytes, driver_seeds[i].size);
    for (; done < runs && (!seconds || time(NULL) < end); done++) {
        size_t n = driver_random((uint32_t)driver_count), size = driver_seeds[n].size < max ? driver_seeds[n].size : max;
        unsigned changes = 1 + driver_random(8);
        memcpy(bytes, driver_seeds[n].bytes, size);
        while (changes--)
            size = driver_mutate(bytes, size, max);
        driver_run(bytes, size);
        if (driver_count < DRIVER_SEEDS / 2 && !driver_random(64)) /* some stay, so that changes add up */
            driver_add(bytes, size);
    }
    if (driver_keep)
        remove("crash-input");
    printf("Done %lu runs\n", done);
    return 0;
}
