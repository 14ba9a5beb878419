/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scan: A and D bits of a region are cleared, some pages are read, some written, and the bits are
 * looked at again, as page replacement and live migration do. An operation is one page scanned.
 *
 * Arguments: pages=N (4096); rounds=N of the steady phase (20; the warm-up has a quarter).
 */
#include "guest-tests/lib/lib.h"

static uint64_t root; /* kept here, as kernels do: reading CR3 may exit */

/* Of four pages one is written, one read, two are left alone; which ones moves from round to round.
 */
enum use { WRITTEN = 0, READ = 1 };

static enum use use_of(uint64_t page, uint64_t round)
{
    return (enum use)((page + round) & 3);
}

static void scan(uint64_t pages, uint64_t round)
{
    for (uint64_t i = 0; i < pages; i++) {
        volatile uint64_t *entry = space_find(root, TEST_BASE + i * PAGE, 1);
        *entry &= ~(PTE_A | PTE_D);
    }
    write_cr3(root);
    for (uint64_t i = 0; i < pages; i++) {
        enum use use = use_of(i, round);
        if (use == WRITTEN)
            *word_at(TEST_BASE + i * PAGE) = value_of(i);
        else if (use == READ && *word_at(TEST_BASE + i * PAGE) != value_of(i))
            fail("page %u does not hold its value\n", i);
    }
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t bits = *space_find(root, TEST_BASE + i * PAGE, 1) & (PTE_A | PTE_D);
        enum use use = use_of(i, round);
        uint64_t want = use == WRITTEN ? PTE_A | PTE_D : use == READ ? PTE_A : 0;
        if (bits != want)
            fail("round %u, page %u: A and D are 0x%x, must be 0x%x\n", round, i, bits, want);
    }
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t rounds)
{
    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_begin("scan", phase);
    for (uint64_t n = 0; n < rounds; n++)
        scan(pages, n);
    /* Two of four pages, and each page table twice. */
    uint64_t tables = (pages + ENTRIES - 1) / ENTRIES;
    bench_end_touches(pages * rounds, rounds * (pages / 2 + 2 * tables));
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 4096);
    uint64_t rounds = arg_number("rounds", 20);

    args_done();
    root = read_cr3();
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t frame = page_alloc();
        *word_at(frame) = value_of(i);
        space_map(root, TEST_BASE + i * PAGE, frame, PTE_W);
    }
    phase(TF_PHASE_WARMUP, pages, rounds / 4 + 1);
    phase(TF_PHASE_STEADY, pages, rounds);
}
