/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * batch: a large static mapping is touched at random, and now and then the protection of a run of
 * pages in it is changed, one store a page and one flush for all, as mprotect does. An operation is
 * one such change with the touches that follow it; each run is made read-only and writable in turn.
 *
 * Arguments: pages=N of the mapping (8192); run=N of them that change, within one page table (64);
 * touches=N between two changes (5000); ops=N changes (60).
 */
#include "guest-tests/lib/lib.h"

static uint64_t root; /* kept here, as kernels do: reading CR3 may exit */

static void protect(uint64_t first, uint64_t run, bool writable)
{
    for (uint64_t i = first; i < first + run; i++) {
        volatile uint64_t *entry = space_find(root, TEST_BASE + i * PAGE, 1);
        *entry = writable ? *entry | PTE_W : *entry & ~PTE_W;
    }
    write_cr3(root);
}

static void touch(uint64_t pages, uint64_t touches, uint64_t *random)
{
    for (uint64_t n = 0; n < touches; n++) {
        uint64_t i = random_below(random, pages);
        if (*word_at(TEST_BASE + i * PAGE) != value_of(i))
            fail("page %u does not hold its value\n", i);
    }
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t run, uint64_t touches, uint64_t ops)
{
    uint64_t random = 1, first = 0;

    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_begin("batch", phase);
    for (uint64_t n = 0; n < ops; n++) {
        if (n % 2 == 0)
            first = random_below(&random, pages / run) * run;
        protect(first, run, n % 2 != 0);
        touch(pages, touches, &random);
        if (n % 2 != 0) /* writable again, and whole */
            *word_at(TEST_BASE + first * PAGE) = value_of(first);
    }
    bench_end_touches(ops, ops * (touches + run));
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 8192);
    uint64_t run = arg_number("run", 64);
    uint64_t touches = arg_number("touches", 5000);
    uint64_t ops = arg_number("ops", 60) / 2 * 2;

    args_done();
    if (run == 0 || run > ENTRIES || ENTRIES % run != 0 || pages < run || ops == 0)
        fail("run must be a divisor of %u, pages at least run, ops at least 2\n",
             (uint64_t)ENTRIES);
    root = read_cr3();
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t frame = page_alloc();
        *word_at(frame) = value_of(i);
        space_map(root, TEST_BASE + i * PAGE, frame, PTE_W);
        *word_at(TEST_BASE + i * PAGE) = value_of(i);
    }
    phase(TF_PHASE_WARMUP, pages, run, touches, ops / 4 / 2 * 2 + 2);
    phase(TF_PHASE_STEADY, pages, run, touches, ops);
}
