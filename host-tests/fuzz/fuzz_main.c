// A driver for fuzz targets without libFuzzer.
//
//   fuzz_x FILE...   replays the files
//   fuzz_x N [SEED]  mutates the target's seed input N times; prints the seed
//
// A target is LLVMFuzzerTestOneInput() and fuzz_seed_input(). The input that
// is being tried can be had again from the seed and its number, which a crash
// leaves in the last line "# input ..." under FUZZ_VERBOSE=1.

#include "host-tests/runtime/libc/stub_port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_seed_input(uint8_t *data, size_t room);

enum {
    MAX_INPUT = 256 * 1024,
    MAX_MUTATIONS = 8,
};

static uint8_t seed_input[MAX_INPUT], input[MAX_INPUT];

static size_t mutate(uint8_t *p, size_t size, uint64_t *random)
{
    static const char tokens[][9] = {"00000000", "FFFFFFFF", "00000001",
                                     "0000A1FF", "../../..", "TRAILER!"};
    size_t at = size ? stub_random(random) % size : 0;
    size_t from = size ? stub_random(random) % size : 0;
    size_t n = 1 + stub_random(random) % 64;

    switch (stub_random(random) % 6) {
    case 0: // a bit
        if (size)
            p[at] ^= (uint8_t)(1u << stub_random(random) % 8);
        return size;
    case 1: // a byte
        if (size)
            p[at] = (uint8_t)stub_random(random);
        return size;
    case 2: // a hexadecimal digit
        if (size)
            p[at] = (uint8_t) "0123456789ABCDEF"[stub_random(random) % 16];
        return size;
    case 3: // a number or a word
        if (at + 8 <= size)
            memcpy(p + at, tokens[stub_random(random) % 6], 8);
        return size;
    case 4: // cut off
        return at;
    default: // a piece of it elsewhere
        if (at + n <= size && from + n <= size)
            memmove(p + at, p + from, n);
        return size;
    }
}

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    size_t size;

    if (!f) {
        perror(path);
        return 1;
    }
    size = fread(input, 1, sizeof(input), f);
    fclose(f);
    LLVMFuzzerTestOneInput(input, size);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 0) : 10000;
    size_t seed_size = fuzz_seed_input(seed_input, sizeof(seed_input));
    uint64_t random;

    if (argc > 1 && n == 0) {
        int failed = 0;

        for (int i = 1; i < argc; i++)
            failed |= replay(argv[i]);
        return failed;
    }
    random = argc > 2 ? strtoull(argv[2], NULL, 0) : stub_seed("fuzz");
    fprintf(stderr, "# %lu inputs, seed %llu\n", n, (unsigned long long)random);
    for (unsigned long i = 0; i < n; i++) {
        size_t size = seed_size;
        unsigned nmutations =
            1 + (unsigned)(stub_random(&random) % MAX_MUTATIONS);

        memcpy(input, seed_input, size);
        while (nmutations-- > 0)
            size = mutate(input, size, &random);
        if (getenv("FUZZ_VERBOSE"))
            fprintf(stderr, "# input %lu\n", i);
        LLVMFuzzerTestOneInput(input, size);
    }
    fprintf(stderr, "# ok\n");
    return 0;
}
