/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork: an address space is copied copy-on-write, the child writes to a part of it and is dropped,
 * as a shell or a database's snapshot does. An operation is one fork with all that follows: new
 * tables, every page shared read-only, a page fault and a copied page for each page that the child
 * writes, and for each of those that the parent takes back; then the child is torn down.
 *
 * Arguments: pages=N of the address space (1024); written=N of them by the child (256); ops=N forks
 * (30).
 */
#include "guest-tests/lib/lib.h"

#define VECTOR_PF        14
#define PF_WRITE_PRESENT 0x3

/*
 * Of each page: the parent's entry and the child's, to share it; the child's read; the parent's
 * read, then, as its write faults, the entry and the page again. Of each that the child writes: the
 * page, the entry, the cleared copy, the frame, the copy, the entry, the page; then, as it is
 * dropped, the entry and the copy.
 */
#define TOUCHES_PAGE    6u
#define TOUCHES_WRITTEN 9u

static uint64_t parent, child;
static uint64_t current; /* the one in CR3, kept here as kernels do: reading CR3 may exit */
static uint64_t copies;

static void switch_to(uint64_t space)
{
    current = space;
    write_cr3(space);
}

static uint64_t address_of(uint64_t i)
{
    return TEST_BASE + i * PAGE;
}

/* A write to a shared page: the child gets a copy, the parent its own page back. */
static bool on_fault(struct trap *trap)
{
    uint64_t at = read_cr2() & ~(PAGE - 1);

    if (trap->vector != VECTOR_PF || trap->error_code != PF_WRITE_PRESENT || at < TEST_BASE)
        return false;
    volatile uint64_t *entry = space_find(current, at, 1);
    uint64_t frame = *entry & PTE_ADDRESS;
    if (current == child) {
        uint64_t copy = page_alloc();
        memcpy((void *)copy, (const void *)frame, PAGE);
        frame = copy;
        copies++;
    }
    *entry = frame | PTE_P | PTE_W;
    invlpg(at);
    return true;
}

/* The child shares every page; both sides lose the right to write. */
static void copy_space(uint64_t pages)
{
    child = space_new();
    for (uint64_t i = 0; i < pages; i++) {
        volatile uint64_t *entry = space_find(parent, address_of(i), 1);
        uint64_t shared = *entry & ~PTE_W;
        *entry = shared;
        *space_entry(child, address_of(i), 1) = shared;
    }
    switch_to(parent);
}

static void run_child(uint64_t pages, uint64_t written)
{
    switch_to(child);
    for (uint64_t i = 0; i < written; i++)
        *word_at(address_of(i)) = ~value_of(i);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t want = i < written ? ~value_of(i) : value_of(i);
        if (*word_at(address_of(i)) != want)
            fail("child: page %u does not hold its value\n", i);
    }
    switch_to(parent);
}

static void drop_child(uint64_t written)
{
    for (uint64_t i = 0; i < written; i++)
        page_free(*space_find(child, address_of(i), 1) & PTE_ADDRESS);
    space_free(child);
    child = 0;
}

static void fork_once(uint64_t pages, uint64_t written)
{
    copy_space(pages);
    run_child(pages, written);
    drop_child(written);
    for (uint64_t i = 0; i < pages; i++) {
        if (*word_at(address_of(i)) != value_of(i))
            fail("parent: page %u was changed by the child\n", i);
        *word_at(address_of(i)) = value_of(i);
    }
}

static void phase(enum tf_phase phase, uint64_t pages, uint64_t written, uint64_t ops)
{
    copies = 0;
    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_begin("fork", phase);
    for (uint64_t n = 0; n < ops; n++)
        fork_once(pages, written);
    bench_end_touches(ops, ops * (pages * TOUCHES_PAGE + written * TOUCHES_WRITTEN));
    CHECK_EQ(copies, written * ops, "copied pages");
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
}

void guest_main(void)
{
    uint64_t pages = arg_number("pages", 1024);
    uint64_t written = arg_number("written", 256);
    uint64_t ops = arg_number("ops", 30);

    args_done();
    if (written > pages || pages == 0)
        fail("written must be at most pages, and pages at least 1\n");
    parent = current = read_cr3();
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t frame = page_alloc();
        *word_at(frame) = value_of(i);
        space_map(parent, address_of(i), frame, PTE_W);
    }
    trap_set_handler(on_fault);
    phase(TF_PHASE_WARMUP, pages, written, ops / 4 + 1);
    phase(TF_PHASE_STEADY, pages, written, ops);
}
