/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * churn: pages of one region are mapped, touched and unmapped without end, as an allocator that
 * returns memory does. An operation maps a page to a frame that the page did not have before,
 * writes and reads it, unmaps it and invalidates it.
 *
 * Arguments: pages=N of the region (512); frames=N (64); ops=N a phase (100000).
 */
#include "guest-tests/lib/lib.h"

#define FRAMES_MAX 512u

/* An operation: the page, its frame, the entry, with which the next operation begins. */
#define TOUCHES 3u

static uint64_t frame[FRAMES_MAX];
static uint64_t root; /* kept here, as kernels do: reading CR3 may exit */

static void churn(uint64_t pages, uint64_t frames, uint64_t ops)
{
    for (uint64_t n = 0, f = 0; n < ops; n++) {
        uint64_t at = TEST_BASE + n % pages * PAGE;
        uint64_t *entry = space_find(root, at, 1);
        *(volatile uint64_t *)entry = frame[f] | PTE_P | PTE_W;
        *word_at(at) = value_of(n);
        if (*word_at(at) != value_of(n) || *word_at(frame[f]) != value_of(n))
            fail("operation %u: the page does not lead to its frame\n", n);
        *(volatile uint64_t *)entry = 0;
        invlpg(at);
        f = f + 1 == frames ? 0 : f + 1;
    }
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t frames, uint64_t ops)
{
    bench_begin("churn", phase);
    churn(pages, frames, ops);
    bench_end_touches(ops, ops * TOUCHES);
    /* Nothing is mapped now: map the region once more, so that there is something to audit. */
    for (uint64_t i = 0; i < pages; i++)
        space_map(root, TEST_BASE + i * PAGE, frame[i % frames], PTE_W);
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
    for (uint64_t i = 0; i < pages; i++) {
        *space_find(root, TEST_BASE + i * PAGE, 1) = 0;
        invlpg(TEST_BASE + i * PAGE);
    }
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 512);
    uint64_t frames = arg_number("frames", 64);
    uint64_t ops = arg_number("ops", 100000);

    args_done();
    root = read_cr3();
    if (pages == 0 || frames == 0 || frames > FRAMES_MAX)
        fail("pages and frames must be at least 1, frames at most %u\n", (uint64_t)FRAMES_MAX);
    for (uint64_t i = 0; i < frames; i++)
        frame[i] = page_alloc();
    for (uint64_t i = 0; i < pages; i++)
        space_entry(root, TEST_BASE + i * PAGE, 1);
    phase(TF_PHASE_WARMUP, pages, frames, ops / 4);
    phase(TF_PHASE_STEADY, pages, frames, ops);
}
