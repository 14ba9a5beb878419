/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * phases: long stable phases, in which a mapping is only touched, are broken by bursts in which a
 * part of it is mapped to other frames, as a garbage collector or a database's checkpoint does. An
 * operation is one read; a burst remaps `burst` pages after every `stable` reads.
 *
 * Arguments: pages=N (8192); stable=N reads between bursts (100000); burst=N pages (1024); bursts=N
 * of the steady phase (6; the warm-up has 2).
 */
#include "guest-tests/lib/lib.h"

static uint64_t root; /* kept here, as kernels do: reading CR3 may exit */

#define TOUCHES_SWAP 4u /* two entries, mostly of two tables: read both, write both */

/* Pages i and i + half swap their frames: page i holds the value of owner[i]. */
static uint32_t *owner;

static void remap(uint64_t pages, uint64_t first, uint64_t count)
{
    uint64_t half = pages / 2;

    for (uint64_t n = 0; n < count; n++) {
        uint64_t a = (first + n) % half, b = a + half;
        volatile uint64_t *entry_a = space_find(root, TEST_BASE + a * PAGE, 1);
        volatile uint64_t *entry_b = space_find(root, TEST_BASE + b * PAGE, 1);
        uint64_t kept = *entry_a;
        *entry_a = *entry_b;
        *entry_b = kept;
        invlpg(TEST_BASE + a * PAGE);
        invlpg(TEST_BASE + b * PAGE);
        uint32_t kept_owner = owner[a];
        owner[a] = owner[b];
        owner[b] = kept_owner;
    }
}

static void touch(uint64_t pages, uint64_t reads, uint64_t *random)
{
    for (uint64_t n = 0; n < reads; n++) {
        uint64_t i = random_below(random, pages);
        if (*word_at(TEST_BASE + i * PAGE) != value_of(owner[i]))
            fail("page %u does not hold the value of page %u\n", i, (uint64_t)owner[i]);
    }
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t stable, uint64_t burst,
                  uint64_t bursts)
{
    uint64_t random = 1;

    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_begin("phases", phase);
    for (uint64_t n = 0; n < bursts; n++) {
        touch(pages, stable, &random);
        remap(pages, n * burst, burst / 2);
    }
    bench_end_touches(stable * bursts, (stable + burst / 2 * TOUCHES_SWAP) * bursts);
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 8192);
    uint64_t stable = arg_number("stable", 100000);
    uint64_t burst = arg_number("burst", 1024);
    uint64_t bursts = arg_number("bursts", 6);

    args_done();
    if (pages < 2 || pages % 2 != 0)
        fail("pages must be even and at least 2\n");
    root = read_cr3();
    owner = (uint32_t *)run_alloc((pages * sizeof(*owner) + PAGE - 1) & ~(PAGE - 1), PAGE);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t frame = page_alloc();
        *word_at(frame) = value_of(i);
        owner[i] = (uint32_t)i;
        space_map(root, TEST_BASE + i * PAGE, frame, PTE_W);
    }
    phase(TF_PHASE_WARMUP, pages, stable, burst, 2);
    phase(TF_PHASE_STEADY, pages, stable, burst, bursts);
}
