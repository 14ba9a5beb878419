/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * switch: several address spaces with a shared kernel half, run in turn, as processes are. An
 * operation is one MOV to CR3 and `touches` reads, half of the space's own pages, half of the
 * kernel's.
 *
 * Arguments: spaces=N (8, at most 64); pages=N, private to each (256); kernel=N shared pages (256);
 * touches=N after each switch (32); ops=N switches a phase (20000).
 */
#include "guest-tests/lib/lib.h"

#define SPACES_MAX  64u
#define KERNEL_BASE 0xffff800000000000ull /* PML4 entry 256: the same tables in all spaces */

static uint64_t space[SPACES_MAX];

static uint64_t private_value(uint64_t s, uint64_t i)
{
    return value_of((s + 1) << 32 | i);
}

static void build_spaces(uint64_t spaces, uint64_t pages, uint64_t kernel)
{
    uint64_t first = read_cr3();

    for (uint64_t i = 0; i < kernel; i++) {
        uint64_t frame = page_alloc();
        *word_at(frame) = value_of(i);
        space_map(first, KERNEL_BASE + i * PAGE, frame, PTE_W | PTE_G);
    }
    for (uint64_t s = 0; s < spaces; s++) {
        space[s] = space_new();
        *space_entry(space[s], KERNEL_BASE, 4) = *space_entry(first, KERNEL_BASE, 4);
        for (uint64_t i = 0; i < pages; i++) {
            uint64_t frame = page_alloc();
            *word_at(frame) = private_value(s, i);
            space_map(space[s], TEST_BASE + i * PAGE, frame, PTE_W);
        }
    }
}

static void phase(enum tf_phase phase, uint64_t spaces, uint64_t pages, uint64_t kernel,
                  uint64_t touches, uint64_t ops)
{
    uint64_t random = 1;

    bench_watch(TEST_BASE, pages * PAGE, PAGE);
    bench_watch(KERNEL_BASE, kernel * PAGE, PAGE);
    bench_begin("switch", phase);
    for (uint64_t n = 0; n < ops; n++) {
        uint64_t s = n % spaces;
        write_cr3(space[s]);
        for (uint64_t t = 0; t < touches; t += 2) {
            uint64_t i = random_below(&random, pages);
            uint64_t k = random_below(&random, kernel);
            if (*word_at(TEST_BASE + i * PAGE) != private_value(s, i))
                fail("space %u, page %u: not its value\n", s, i);
            if (*word_at(KERNEL_BASE + k * PAGE) != value_of(k))
                fail("space %u, kernel page %u: not its value\n", s, k);
        }
    }
    bench_end_touches(ops, ops * ((touches + 1) / 2 * 2));
    bench_audit(TEST_BASE, pages * PAGE, PAGE);
    bench_audit(KERNEL_BASE, kernel * PAGE, PAGE);
}

void guest_main(void)
{
    uint64_t spaces = arg_number("spaces", 8);
    uint64_t pages = arg_number("pages", 256);
    uint64_t kernel = arg_number("kernel", 256);
    uint64_t touches = arg_number("touches", 32);
    uint64_t ops = arg_number("ops", 20000);

    args_done();
    if (spaces == 0 || spaces > SPACES_MAX || pages == 0 || kernel == 0)
        fail("spaces must be 1 to %u, pages and kernel at least 1\n", (uint64_t)SPACES_MAX);
    build_spaces(spaces, pages, kernel);
    phase(TF_PHASE_WARMUP, spaces, pages, kernel, touches, ops / 4);
    phase(TF_PHASE_STEADY, spaces, pages, kernel, touches, ops);
}
