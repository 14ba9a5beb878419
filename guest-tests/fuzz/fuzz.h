/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the parts of the fuzz guest: main.c (steps, digest), world.c (segments, exceptions, code
 * that may fault), code.c (random instruction bytes), steps.c (all other steps).
 */
#ifndef GUEST_FUZZ_H
#define GUEST_FUZZ_H

#include "guest-tests/lib/lib.h"

#define SELECTOR_CODE      0x08u
#define SELECTOR_DATA      0x10u
#define SELECTOR_USER_DATA 0x1bu
#define SELECTOR_USER_CODE 0x23u
#define SELECTOR_TSS       0x28u

#define VECTOR_DB  1u
#define VECTOR_NMI 2u
#define NO_TRAP    (~0ull)

#define RFLAGS_TF (1ull << 8)

/* Addresses that steps use, in PML4 entry 1: nothing else is within 2 GiB of the first three. */
#define CODE_AT    (TEST_BASE + 0x80000000ull)   /* random code: one page, for CPL 3 and 0 */
#define SCRATCH_AT (CODE_AT + 0x10000ull)        /* its data: one page */
#define TABLE_AT   (CODE_AT + 0x20000ull)        /* a page table that is in use, as data */
#define TREE_AT    (TEST_BASE + 0x8000000000ull) /* PML4 entry 2: what that table maps, and more */
#define NO_RAM     0xe0000000ull                 /* guest-physical: no RAM and no device */

/* --- main.c ----------------------------------------------------------------------------------- */

extern uint64_t chance; /* the generator's state */

/* Take what a step saw into the digest: it must be the same in each way of paging. */
void digest(uint64_t value);

static inline unsigned below(unsigned n)
{
    return (unsigned)random_below(&chance, n);
}

/* --- world.c ---------------------------------------------------------------------------------- */

struct registers {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
};

struct outcome {
    uint64_t vector; /* NO_TRAP: none */
    uint64_t error_code, rip;
    uint64_t cr2;
    unsigned steps; /* instructions that were stepped over */
    struct registers after;
};

extern struct outcome outcome;

/* What the single-step trap asks before each instruction of random code: may it be executed? */
typedef bool may_run(uint64_t rip, bool user);

void world_init(void);

/* Run from `rip` with these registers, at most `limit` instructions, one by one while `allows`
 * does. The outcome is in `outcome`. */
void run_at(uint64_t rip, uint64_t rsp, bool user, const struct registers *registers,
            unsigned limit, may_run *allows);

/* --- code.c, steps.c -------------------------------------------------------------------------- */

void code_init(void);
void step_code(bool user);
void step_emulated(bool user);

void steps_init(void);
/* One step of any kind but random code. */
void step_other(void);

#endif
