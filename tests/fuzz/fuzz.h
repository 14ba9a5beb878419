/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the harnesses share: an input taken apart into numbers, and what must hold whatever it is.
 *
 * A harness is one function in the form that libFuzzer calls. It is run by the fuzzer (`make
 * fuzz`), and over the inputs that are kept in the repository (`make fuzz-regress`, replay.c).
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Always 0; what is wrong ends the program. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition, ...)                                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: must hold: %s: ", __FILE__, __LINE__, #condition);             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct fuzz_input {
    const uint8_t *bytes;
    size_t left;
};

/* The next `bytes` bytes, at most 8, little end first; what the input lacks is 0. */
static inline uint64_t fuzz_take(struct fuzz_input *in, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
        value |= (uint64_t)*in->bytes++ << 8 * i;
    return value;
}

/* A number in [0, n), n at most 256: one byte of the input. */
static inline unsigned fuzz_below(struct fuzz_input *in, unsigned n)
{
    return (unsigned)fuzz_take(in, 1) % n;
}

/* xorshift64*: for what need not be the fuzzer's choice byte by byte. */
static inline uint64_t fuzz_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

#endif
