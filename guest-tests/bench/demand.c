/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * demand: a large area is touched page by page, and the guest's own #PF handler maps each at its
 * first touch, as an operating system does for fresh memory. An operation is one such fault; a
 * round faults the whole area in and gives it back.
 *
 * Arguments: pages=N of the area (8192); rounds=N of the steady phase (4; the warm-up is one).
 */
#include "guest-tests/lib/lib.h"

#define VECTOR_PF            14
#define PF_WRITE_NOT_PRESENT 0x2

/* An operation: the page, the cleared frame, the entry, the page again; its frame, to compare; the
 * entry and the frame, to give it back. */
#define TOUCHES 7u

static uint64_t root; /* kept here, as kernels do: reading CR3 may exit */
static uint64_t faults;
static uint64_t area_pages;
static uint64_t *frame_of; /* by page */

static bool on_fault(struct trap *trap)
{
    uint64_t at = read_cr2();

    if (trap->vector != VECTOR_PF || trap->error_code != PF_WRITE_NOT_PRESENT || at < TEST_BASE ||
        at >= TEST_BASE + area_pages * PAGE)
        return false;
    faults++;
    uint64_t i = (at - TEST_BASE) / PAGE;
    frame_of[i] = page_alloc();
    *(volatile uint64_t *)space_find(root, at, 1) = frame_of[i] | PTE_P | PTE_W;
    return true;
}

static void round_trip(uint64_t pages, bool keep)
{
    for (uint64_t i = 0; i < pages; i++)
        *word_at(TEST_BASE + i * PAGE) = value_of(i);
    for (uint64_t i = 0; i < pages; i++) {
        if (*word_at(frame_of[i]) != value_of(i))
            fail("page %u did not reach its frame\n", i);
    }
    for (uint64_t i = 0; i < pages && !keep; i++) {
        *(volatile uint64_t *)space_find(root, TEST_BASE + i * PAGE, 1) = 0;
        page_free(frame_of[i]);
    }
    if (!keep)
        write_cr3(root);
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t rounds)
{
    faults = 0;
    bench_begin("demand", phase);
    for (uint64_t n = 0; n < rounds; n++)
        round_trip(pages, false);
    bench_end_touches(faults, faults * TOUCHES);
    CHECK_EQ(faults, pages * rounds, "page faults");
    round_trip(pages, true); /* something to audit */
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
    for (uint64_t i = 0; i < pages; i++) {
        *(volatile uint64_t *)space_find(root, TEST_BASE + i * PAGE, 1) = 0;
        page_free(frame_of[i]);
    }
    write_cr3(root);
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 8192);
    uint64_t rounds = arg_number("rounds", 4);

    args_done();
    root = read_cr3();
    area_pages = pages;
    frame_of = (uint64_t *)run_alloc((pages * sizeof(uint64_t) + PAGE - 1) & ~(PAGE - 1), PAGE);
    for (uint64_t i = 0; i < pages; i++)
        space_entry(root, TEST_BASE + i * PAGE, 1);
    trap_set_handler(on_fault);
    phase(TF_PHASE_WARMUP, pages, 1);
    phase(TF_PHASE_STEADY, pages, rounds);
}
