/* tests/bench/kernels.c - the integer kernels, the same code bare and native.
 *
 * Contract   No library, no floating point, no vectors; all memory is static. run(rounds) is a pure function of rounds.
 * Theory     Each kernel leans on one thing an emulator may be slow at: sieve on strided byte stores, crc32 on a chain of
 *            dependent table loads, quicksort on branches that can't be predicted, hash on scattered loads, vm on an indirect
 *            jump per dozen instructions, matrix on multiply and add, copy on byte loads and stores, fib on calls and returns,
 *            structs on pointers and short strings, big on more code than any translation cache likes.
 */
#include "bench.h"

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v;
    h *= UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}

/* ---- sieve of Eratosthenes ---- */
enum { SIEVE_SIZE = 1 << 20 };
static uint8_t sieve_composite[SIEVE_SIZE];

static uint64_t run_sieve(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        uint32_t i, j, count = 0;
        for (i = 0; i < SIEVE_SIZE; i++)
            sieve_composite[i] = 0;
        for (i = 2; i < SIEVE_SIZE; i++) {
            if (sieve_composite[i])
                continue;
            count++;
            if (i < 1024)
                for (j = i * i; j < SIEVE_SIZE; j += i)
                    sieve_composite[j] = 1;
        }
        sum = mix(sum, count);
    }
    return sum;
}

/* ---- CRC-32 (IEEE 802.3, reflected) over 1 MiB ---- */
enum { CRC_SIZE = 1 << 20 };
static uint8_t crc_data[CRC_SIZE];
static uint32_t crc_table[256];

static uint64_t run_crc32(unsigned rounds)
{
    uint64_t seed = 42, sum = 0;
    uint32_t i, k, c;
    for (i = 0; i < 256; i++) {
        for (c = i, k = 0; k < 8; k++)
            c = c & 1 ? UINT32_C(0xEDB88320) ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
    for (i = 0; i < CRC_SIZE; i++)
        crc_data[i] = (uint8_t)(bench_random(&seed) >> 32);
    while (rounds--) {
        c = ~UINT32_C(0);
        for (i = 0; i < CRC_SIZE; i++)
            c = crc_table[(c ^ crc_data[i]) & 255] ^ (c >> 8);
        c = ~c;
        sum = mix(sum, c);
        crc_data[c % CRC_SIZE] ^= (uint8_t)c;
    }
    return sum;
}

/* ---- quicksort of 128 Ki random integers ---- */
enum { SORT_COUNT = 1 << 17 };
static int32_t sort_values[SORT_COUNT];

static void sort_range(int32_t *v, int32_t lo, int32_t hi)
{
    while (lo < hi) {
        int32_t i = lo, j = hi, pivot = v[lo + (hi - lo) / 2];
        while (i <= j) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i <= j) {
                int32_t t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (j - lo < hi - i) {
            sort_range(v, lo, j);
            lo = i;
        } else {
            sort_range(v, i, hi);
            hi = j;
        }
    }
}

static uint64_t run_quicksort(unsigned rounds)
{
    uint64_t seed = 7, sum = 0;
    while (rounds--) {
        int32_t i;
        for (i = 0; i < SORT_COUNT; i++)
            sort_values[i] = (int32_t)(uint32_t)(bench_random(&seed) >> 33);
        sort_range(sort_values, 0, SORT_COUNT - 1);
        for (i = 1; i < SORT_COUNT; i++)
            if (sort_values[i - 1] > sort_values[i])
                return 0;
        sum = mix(sum, (uint64_t)sort_values[SORT_COUNT / 2]);
    }
    return sum;
}

/* ---- hash table: open addressing, insert, find, remove ---- */
enum { HASH_SIZE = 1 << 17, HASH_GONE = 1 };
static uint64_t hash_key[HASH_SIZE], hash_value[HASH_SIZE];

static uint32_t hash_of(uint64_t key) { return (uint32_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 47); }

static uint64_t run_hash(unsigned rounds)
{
    uint64_t sum = 0, seed = 99;
    uint32_t i;
    for (i = 0; i < HASH_SIZE; i++)
        hash_key[i] = hash_value[i] = 0;
    while (rounds--) {
        for (i = 0; i < 1 << 16; i++) {
            uint64_t r = bench_random(&seed), key = ((r >> 20) & 0xffff) + 2;
            uint32_t slot = hash_of(key), free_slot = HASH_SIZE;
            while (hash_key[slot] != 0 && hash_key[slot] != key) {
                if (hash_key[slot] == HASH_GONE && free_slot == HASH_SIZE)
                    free_slot = slot;
                slot = (slot + 1) & (HASH_SIZE - 1);
            }
            if (hash_key[slot] == key) {
                sum += hash_value[slot];
                if ((r & 7) == 0)
                    hash_key[slot] = HASH_GONE;
                else
                    hash_value[slot] += r & 0xff;
            } else {
                if (free_slot != HASH_SIZE)
                    slot = free_slot;
                hash_key[slot] = key;
                hash_value[slot] = r & 0xff;
            }
        }
        /* Graves would fill the table: sweep it, and drop everything. */
        if ((rounds & 15) == 0)
            for (i = 0; i < HASH_SIZE; i++) {
                sum = mix(sum, hash_key[i] > HASH_GONE ? hash_value[i] : 0);
                hash_key[i] = 0;
            }
    }
    return sum;
}

/* ---- bytecode machine with a switch ---- */
enum vm_op { VM_PUSH, VM_LOAD, VM_STORE, VM_ADD, VM_SUB, VM_MUL, VM_XOR, VM_SHR, VM_LT, VM_JZ, VM_JMP, VM_DUP, VM_DROP, VM_GET, VM_PUT, VM_HALT };

static uint64_t vm_array[256];

static uint64_t vm_run(const int32_t *code, uint64_t argument)
{
    uint64_t stack[32], local[8], *sp = stack;
    const int32_t *pc = code;
    int i;
    for (i = 0; i < 8; i++)
        local[i] = 0;
    local[0] = argument;
    for (;;) {
        switch ((enum vm_op)*pc++) {
        case VM_PUSH: *sp++ = (uint64_t)(int64_t)*pc++; break;
        case VM_LOAD: *sp++ = local[*pc++]; break;
        case VM_STORE: local[*pc++] = *--sp; break;
        case VM_ADD: sp--; sp[-1] += sp[0]; break;
        case VM_SUB: sp--; sp[-1] -= sp[0]; break;
        case VM_MUL: sp--; sp[-1] *= sp[0]; break;
        case VM_XOR: sp--; sp[-1] ^= sp[0]; break;
        case VM_SHR: sp--; sp[-1] >>= sp[0] & 63; break;
        case VM_LT: sp--; sp[-1] = sp[-1] < sp[0]; break;
        case VM_JZ: pc = *--sp == 0 ? code + *pc : pc + 1; break;
        case VM_JMP: pc = code + *pc; break;
        case VM_DUP: sp[0] = sp[-1]; sp++; break;
        case VM_DROP: sp--; break;
        case VM_GET: sp[-1] = vm_array[sp[-1] & 255]; break;
        case VM_PUT: sp -= 2; vm_array[sp[0] & 255] = sp[1]; break;
        case VM_HALT: return sp[-1];
        }
    }
}

/* x = argument; for (i = 0; i < 100000; i++) { x = x * 31 + i ^ x >> 7; a[x] = a[i] + x; } */
static const int32_t vm_program[] = {
    /*  0 */ VM_PUSH, 0, VM_STORE, 1,
    /*  4 */ VM_LOAD, 1, VM_PUSH, 100000, VM_LT, VM_JZ, 48,
    /* 11 */ VM_LOAD, 0, VM_PUSH, 31, VM_MUL, VM_LOAD, 1, VM_ADD, VM_LOAD, 0, VM_PUSH, 7, VM_SHR, VM_XOR,
    /* 25 */ VM_DUP, VM_STORE, 0, VM_LOAD, 1, VM_GET, VM_LOAD, 0, VM_ADD, VM_STORE, 2, VM_LOAD, 2, VM_PUT,
    /* 39 */ VM_LOAD, 1, VM_PUSH, 1, VM_ADD, VM_STORE, 1, VM_JMP, 4,
    /* 48 */ VM_LOAD, 0, VM_HALT
};

static uint64_t run_vm(unsigned rounds)
{
    uint64_t sum = 1;
    int i;
    for (i = 0; i < 256; i++)
        vm_array[i] = (uint64_t)i * 12345;
    while (rounds--)
        sum = mix(sum, vm_run(vm_program, sum));
    for (i = 0; i < 256; i++)
        sum = mix(sum, vm_array[i]);
    return sum;
}

/* ---- integer matrix product ---- */
enum { MATRIX_N = 120 };
static int32_t matrix_a[MATRIX_N][MATRIX_N], matrix_b[MATRIX_N][MATRIX_N], matrix_c[MATRIX_N][MATRIX_N];

static uint64_t run_matrix(unsigned rounds)
{
    uint64_t seed = 5, sum = 0;
    int i, j, k;
    for (i = 0; i < MATRIX_N; i++)
        for (j = 0; j < MATRIX_N; j++) {
            matrix_a[i][j] = (int32_t)(bench_random(&seed) >> 52);
            matrix_b[i][j] = (int32_t)(bench_random(&seed) >> 52);
        }
    while (rounds--) {
        for (i = 0; i < MATRIX_N; i++)
            for (j = 0; j < MATRIX_N; j++) {
                int32_t s = 0;
                for (k = 0; k < MATRIX_N; k++)
                    s += matrix_a[i][k] * matrix_b[k][j];
                matrix_c[i][j] = s;
            }
        for (i = 0; i < MATRIX_N; i++) {
            sum = mix(sum, (uint64_t)matrix_c[i][(i * 7) % MATRIX_N]);
            matrix_a[i][i] ^= (int32_t)(sum & 0xfff);
        }
    }
    return sum;
}

/* ---- byte copy, forward, with a change of offset each time ---- */
enum { COPY_SIZE = 1 << 16 };
static uint8_t copy_from[COPY_SIZE + 64], copy_to[COPY_SIZE + 64];

static void copy_bytes(uint8_t *to, const uint8_t *from, size_t n)
{
    while (n--)
        *to++ = *from++;
}

static uint64_t run_copy(unsigned rounds)
{
    uint64_t seed = 3, sum = 0;
    uint32_t i;
    for (i = 0; i < COPY_SIZE + 64; i++)
        copy_from[i] = (uint8_t)(bench_random(&seed) >> 40);
    while (rounds--) {
        copy_bytes(copy_to + (rounds & 31), copy_from + (rounds * 7 & 63), COPY_SIZE);
        sum = mix(sum, copy_to[(rounds * 977) & (COPY_SIZE - 1)]);
        copy_from[rounds & (COPY_SIZE - 1)] = (uint8_t)sum;
    }
    return sum;
}

/* ---- recursive Fibonacci ---- */
static uint32_t fib(uint32_t n);
static uint32_t (*volatile fib_again)(uint32_t) = fib;      /* volatile: the outer calls are not folded */

static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static uint64_t run_fib(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--)
        sum = mix(sum, fib_again(27));
    return sum;
}

/* ---- structs and strings: a list of records, renamed, compared, moved ---- */
enum { PERSON_COUNT = 512, PERSON_NAME = 24 };
struct person {
    struct person *next;
    char name[PERSON_NAME];
    uint32_t age, visits;
    uint64_t balance;
};
static struct person person_pool[PERSON_COUNT];

static size_t text_length(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

static int text_compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

static void text_number(char *to, uint32_t n)
{
    char digits[10];
    int k = 0;
    do
        digits[k++] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    while (k)
        *to++ = digits[--k];
    *to = 0;
}

static uint64_t run_structs(unsigned rounds)
{
    uint64_t seed = 11, sum = 0;
    struct person *first = NULL, *p;
    uint32_t i;
    for (i = 0; i < PERSON_COUNT; i++) {
        p = &person_pool[i];
        copy_bytes((uint8_t *)p->name, (const uint8_t *)"person-", 7);
        text_number(p->name + 7, (uint32_t)(bench_random(&seed) >> 40));
        p->age = i;
        p->visits = 0;
        p->balance = i * 10u;
        p->next = first;
        first = p;
    }
    while (rounds--) {
        struct person *best = first;
        for (p = first; p; p = p->next) {
            p->visits++;
            p->balance += p->age + text_length(p->name);
            if (text_compare(p->name, best->name) > 0)
                best = p;
        }
        text_number(best->name + 7, (uint32_t)(bench_random(&seed) >> 40));
        best->age++;
        sum = mix(sum, best->balance + best->visits);
        /* The first goes to the end. */
        p = first;
        while (p->next)
            p = p->next;
        p->next = first;
        first = first->next;
        p->next->next = NULL;
    }
    return sum;
}

const struct bench_kernel bench_kernels[] = {
    { "sieve", run_sieve, 16 },
    { "crc32", run_crc32, 24 },
    { "quicksort", run_quicksort, 9 },
    { "hash", run_hash, 80 },
    { "vm", run_vm, 8 },
    { "matrix", run_matrix, 16 },
    { "copy", run_copy, 700 },
    { "fib", run_fib, 60 },
    { "structs", run_structs, 4000 },
    { "big", bench_big, 400 },
    { NULL, NULL, 0 }
};
