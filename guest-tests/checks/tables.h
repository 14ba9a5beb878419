/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the groups of live page tables share (tables.c, tables_mix.c): stores by every kind of
 * instruction.
 */
#ifndef GUEST_CHECKS_TABLES_H
#define GUEST_CHECKS_TABLES_H

#include "guest-tests/checks/checks.h"

/* SSE, and AVX where it is there, for the forms that need them. Returns once all is on. */
void stores_init(void);

/* The forms that this processor has, 0 to count - 1. */
unsigned store_forms(void);
const char *store_name(unsigned form);
/* A single instruction that stores all of the 8 bytes and reads none: good for an entry on its own
 * walk. */
bool store_is_single(unsigned form);

/*
 * Make the 8 bytes at `at` (aligned) hold `value`, and check that they do. Some forms take several
 * stores, and some of these write what is neither the old nor the new value.
 */
void store_by(unsigned form, uint64_t at, uint64_t value);
/* The same, with `value` to be read elsewhere: `at` may lead away after the store. Single forms. */
void store_blind(unsigned form, uint64_t at, uint64_t value);

bool has_avx(void);
bool has_xsave(void);

#endif
