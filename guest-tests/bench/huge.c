/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * huge: 2-MiB pages and, where the processor has them, a 1-GiB page, beside 4-KiB pages; all
 * touched at random. An operation is one read, from the three kinds in turn. The records huge.4k,
 * huge.2m and huge.1g hold the audited references of one kind each; huge is all of them together.
 *
 * Arguments: pages=N of 4 KiB (4096); large=N pages of 2 MiB (16); ops=N reads a phase (300000).
 */
#include "guest-tests/lib/lib.h"

#define BASE_2M (TEST_BASE + 16 * PAGE_1G)
#define BASE_1G (TEST_BASE + 32 * PAGE_1G) /* the run's GiB of guest-physical memory once more */

static uint64_t pages, large, run;
static uint64_t run_1g; /* the run by the 1-GiB pages */
static bool with_1g;

static void build(void)
{
    uint64_t root = read_cr3();

    run = run_alloc(large * PAGE_2M, PAGE_2M);
    for (uint64_t i = 0; i < large * ENTRIES; i++)
        *word_at(run + i * PAGE) = value_of(i);
    for (uint64_t i = 0; i < large; i++)
        *space_entry(root, BASE_2M + i * PAGE_2M, 2) = (run + i * PAGE_2M) | PTE_P | PTE_W | PTE_PS;
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t frame = page_alloc();
        *word_at(frame) = value_of(i);
        space_map(root, TEST_BASE + i * PAGE, frame, PTE_W);
    }
    with_1g = has_1g_pages();
    uint64_t first = run & ~(PAGE_1G - 1);
    run_1g = BASE_1G + (run - first);
    for (uint64_t at = first; with_1g && at < run + large * PAGE_2M; at += PAGE_1G)
        *space_entry(root, BASE_1G + (at - first), 3) = at | PTE_P | PTE_W | PTE_PS;
    if (!with_1g)
        print("no 1-GiB pages on this processor: left out\n");
}

static void expect(const char *kind, uint64_t i, uint64_t at)
{
    if (*word_at(at) != value_of(i))
        fail("%s page %u does not hold its value\n", kind, i);
}

static void touch(uint64_t ops)
{
    uint64_t random = 1;

    for (uint64_t n = 0; n < ops; n += 3) {
        uint64_t i = random_below(&random, large * ENTRIES);
        uint64_t j = random_below(&random, pages);
        expect("2-MiB", i, BASE_2M + i * PAGE);
        expect("4-KiB", j, TEST_BASE + j * PAGE);
        if (with_1g)
            expect("1-GiB", i, run_1g + i * PAGE);
    }
}

static void phase(enum tf_phase phase, uint64_t ops)
{
    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_watch(BASE_2M, large * PAGE_2M, PAGE_2M);
    if (with_1g)
        bench_watch(run_1g, large * PAGE_2M, PAGE_2M);
    bench_begin("huge", phase);
    touch(ops);
    bench_end(with_1g ? ops : ops / 3 * 2);
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
    bench_audit(BASE_2M, large * PAGE_2M, PAGE_2M);
    if (with_1g)
        bench_audit(run_1g, large * PAGE_2M, PAGE_2M);
}

/* The walks of one kind of page, with one read of each. */
static void audit_kind(const char *name, uint64_t at, uint64_t bytes, uint64_t step)
{
    uint64_t sum = 0;

    bench_watch(at, bytes, step);
    bench_begin(name, TF_PHASE_STEADY);
    for (uint64_t offset = 0; offset < bytes; offset += step)
        sum += *word_at(at + offset);
    bench_end(bytes / step);
    bench_audit(at, bytes, step);
    if (sum == 0)
        fail("%s: reads gave nothing\n", name);
}

void guest_main(void)
{
    uint64_t ops = arg_number("ops", 300000) / 3 * 3;

    pages = arg_number("pages", 4096);
    large = arg_number("large", 16);
    args_done();
    if (pages == 0 || large == 0)
        fail("pages and large must be at least 1\n");
    build();
    phase(TF_PHASE_WARMUP, ops / 12 * 3);
    phase(TF_PHASE_STEADY, ops);
    audit_kind("huge.4k", TEST_BASE, pages * PAGE, PAGE);
    audit_kind("huge.2m", BASE_2M, large * PAGE_2M, PAGE_2M);
    if (with_1g)
        audit_kind("huge.1g", run_1g, large * PAGE_2M, PAGE_2M);
}
