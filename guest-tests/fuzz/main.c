/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz: random exits from a seed. Arguments seed=N (1), steps=N (2000), show=N: from step N on all
 * that goes into the digest is printed, to find where two runs part.
 *
 * Each step does something at random that exits or may exit: CPUID, MSRs, ports, device registers,
 * memory without RAM, VMX instructions, control and debug registers, stores to page tables that are
 * in use, INVLPG and its like, and random instruction bytes at CPL 3 and 0, singly stepped. Every
 * exception is caught. What a step may do to the guest itself is bounded: it does not end the
 * machine, program DMA, or let interrupts in.
 *
 * What the guest sees goes into a digest, clocks and random numbers left out. The same seed gives
 * the same digest each time and in every way of paging: whoever boots it compares. At the end
 * memory that no step may reach is looked at.
 */
#include "guest-tests/fuzz/fuzz.h"

#define GUARDED     64u /* pages that nobody may change */
#define FNV_PRIME   0x100000001b3ull
#define FNV_OFFSET  0xcbf29ce484222325ull
#define CODE_IN_TEN 5u /* steps that run random code */

uint64_t chance;
static uint64_t sum = FNV_OFFSET;
static bool shows; /* what goes into the digest is printed too, to compare two runs by */
static uint64_t guarded;

void digest(uint64_t value)
{
    if (shows)
        print(" %x", value);
    sum = (sum ^ value) * FNV_PRIME;
    sum ^= sum >> 29;
}

static void guard(void)
{
    guarded = run_alloc(GUARDED * PAGE, PAGE);
    for (uint64_t i = 0; i < GUARDED * PAGE / sizeof(uint64_t); i++)
        word_at(guarded)[i] = value_of(i);
}

static void check_guarded(void)
{
    for (uint64_t i = 0; i < GUARDED * PAGE / sizeof(uint64_t); i++)
        CHECK_EQ(word_at(guarded)[i], value_of(i), "word %u of the memory that is out of reach", i);
}

void guest_main(void)
{
    uint64_t seed = arg_number("seed", 1), steps = arg_number("steps", 2000);
    uint64_t show = arg_number("show", ~0ull);
    uint64_t traps = 0, stepped = 0;

    args_done();
    chance = value_of(seed);
    guard();
    world_init();
    code_init();
    steps_init();
    for (uint64_t n = 0; n < steps; n++) {
        outcome = (struct outcome){.vector = NO_TRAP};
        shows = n >= show;
        if (shows)
            print("\n%u:", n);
        if (below(10) < CODE_IN_TEN)
            (below(4) ? step_code : step_emulated)(below(2) != 0);
        else
            step_other();
        digest(outcome.vector);
        traps += outcome.vector != NO_TRAP;
        stepped += outcome.steps;
    }
    check_guarded();
    print(shows ? "\n" : "");
    print("fuzz: seed=%u steps=%u exceptions=%u instructions=%u digest=0x%x\n", seed, steps, traps,
          stepped, sum);
}
