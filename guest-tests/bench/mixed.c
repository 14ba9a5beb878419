/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mixed: a large static mapping that is touched at random, and beside it, in another region, pages
 * that are mapped, touched and unmapped. An operation is one random read; after every `every` of
 * them comes one change.
 *
 * Arguments: pages=N of the static mapping (8192); region=N pages that change (512); every=N (8);
 * ops=N reads a phase (400000).
 */
#include "guest-tests/lib/lib.h"

#define CHANGING_BASE (TEST_BASE + PAGE_1G)
#define FRAMES        64u

#define TOUCHES_CHANGE 4u /* the entry, the page, the frame, the entry */

static uint64_t frame[FRAMES];
static uint64_t root; /* kept here, as kernels do: reading CR3 may exit */

static void change(uint64_t n, uint64_t region)
{
    uint64_t at = CHANGING_BASE + n % region * PAGE;
    volatile uint64_t *entry = space_find(root, at, 1);
    uint64_t to = frame[n % FRAMES];

    *entry = to | PTE_P | PTE_W;
    *word_at(at) = value_of(n);
    if (*word_at(to) != value_of(n))
        fail("change %u: the page does not lead to its frame\n", n);
    *entry = 0;
    invlpg(at);
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t region, uint64_t every,
                  uint64_t ops)
{
    uint64_t random = 1;

    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_begin("mixed", phase);
    for (uint64_t n = 0, changes = 0, left = every; n < ops; n++) {
        uint64_t i = random_below(&random, pages);
        if (*word_at(TEST_BASE + i * PAGE) != value_of(i))
            fail("page %u does not hold its value\n", i);
        if (--left == 0) {
            change(changes++, region);
            left = every;
        }
    }
    bench_end_touches(ops, ops + ops / every * TOUCHES_CHANGE);
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 8192);
    uint64_t region = arg_number("region", 512);
    uint64_t every = arg_number("every", 8);
    uint64_t ops = arg_number("ops", 400000);

    args_done();
    root = read_cr3();
    if (pages == 0 || region == 0 || every == 0)
        fail("pages, region and every must be at least 1\n");
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t f = page_alloc();
        *word_at(f) = value_of(i);
        space_map(root, TEST_BASE + i * PAGE, f, PTE_W);
    }
    for (unsigned i = 0; i < FRAMES; i++)
        frame[i] = page_alloc();
    for (uint64_t i = 0; i < region; i++)
        space_entry(root, CHANGING_BASE + i * PAGE, 1);
    phase(TF_PHASE_WARMUP, pages, region, every, ops / 4);
    phase(TF_PHASE_STEADY, pages, region, every, ops);
}
