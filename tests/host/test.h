/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A test program: main calls RUN(test) for each of its tests; a test is a function that CHECKs.
 * Each prints "ok NAME" or "FAIL NAME: ..."; main returns test_status().
 */
#ifndef TESTS_HOST_TEST_H
#define TESTS_HOST_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static bool test_failed_now;
static int test_failures;

/* The first failed CHECK of a test is told; the test goes on. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition) && !test_failed_now) {                                                    \
            test_failed_now = true;                                                                \
            printf("FAIL %s: %s:%d: %s: ", __func__, __FILE__, __LINE__, #condition);              \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            fflush(stdout);                                                                        \
        }                                                                                          \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        test_failed_now = false;                                                                   \
        test();                                                                                    \
        if (test_failed_now)                                                                       \
            test_failures++;                                                                       \
        else                                                                                       \
            printf("ok %s\n", #test);                                                              \
        fflush(stdout);                                                                            \
    } while (0)

/* What main returns when a test has failed and said so: no sanitizer ends a program with it. */
#define TEST_FAILED 3

static inline int test_status(void)
{
    return test_failures ? TEST_FAILED : 0;
}

/* xorshift64*: the same numbers every run. */
static inline uint64_t test_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

#endif
