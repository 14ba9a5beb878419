/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * touch: random reads over a large static mapping, far beyond any TLB. An operation is one read,
 * compared with what its page must hold.
 *
 * Arguments: pages=N, of 4 KiB, each its own frame (16384); ops=N, reads a phase (400000).
 */
#include "guest-tests/lib/lib.h"

static void touch(uint64_t pages, uint64_t ops, uint64_t *random)
{
    for (uint64_t n = 0; n < ops; n++) {
        uint64_t i = random_below(random, pages);
        uint64_t found = *word_at(TEST_BASE + i * PAGE);
        if (found != value_of(i))
            fail("page %u holds 0x%x\n", i, found);
    }
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t ops, uint64_t *random)
{
    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_begin("touch", phase);
    touch(pages, ops, random);
    bench_end(ops);
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 16384);
    uint64_t ops = arg_number("ops", 400000);
    uint64_t random = 1;

    args_done();
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t frame = page_alloc();
        *word_at(frame) = value_of(i);
        space_map(read_cr3(), TEST_BASE + i * PAGE, frame, PTE_W);
    }
    phase(TF_PHASE_WARMUP, pages, ops / 4, &random);
    phase(TF_PHASE_STEADY, pages, ops, &random);
}
