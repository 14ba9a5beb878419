/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * victim: what runs beside the attackers and must not notice them. It fills `pages` pages with
 * numbers that follow from `seed`, and for `ms` milliseconds goes over them again and again: each
 * word is held against what it must be, and replaced by the next of its sequence. Its own page
 * tables change all the while, so that it depends on nodes and EPT as attackers do. At the end it
 * prints
 *
 *   victim passes=N checksum=0xX
 *
 * where the checksum is over all words as they then are: tests/boot/attacks.py computes it on its
 * own.
 */
#include "guest-tests/attacks/attacks.h"

/* The sequence of a word, Knuth's MMIX generator; the mark takes the upper bits' place in memory.
 */
#define STEP_MULTIPLY 6364136223846793005ull
#define STEP_ADD      1442695040888963407ull
#define VALUE_MASK    ((1ull << VICTIM_MARK_SHIFT) - 1)
#define CHECKSUM_STEP 0x100000001b3ull /* FNV's prime */
#define MS_A_SECOND   1000u
#define WORDS         (PAGE / sizeof(uint64_t))
#define REMAP_EVERY   7u /* passes in which the pages change places */

static uint64_t pages, *frames, root;

static uint64_t marked(uint64_t value)
{
    return VICTIM_MARK << VICTIM_MARK_SHIFT | (value & VALUE_MASK);
}

static uint64_t step(uint64_t value)
{
    return value * STEP_MULTIPLY + STEP_ADD;
}

/* Page `i` is at another address from time to time. */
static uint64_t address_of(uint64_t i, uint64_t turn)
{
    return TEST_BASE + (i + turn) % pages * PAGE;
}

static void map_pages(uint64_t turn)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t at = address_of(i, turn);
        space_map(root, at, frames[i], PTE_W);
        invlpg(at);
    }
}

/* Hold all words against `expected`, which begins with the first word's value, and step them. */
static uint64_t pass(uint64_t seed, uint64_t turn, uint64_t number)
{
    uint64_t checksum = 0, value = seed;

    for (uint64_t i = 0; i < pages; i++) {
        volatile uint64_t *word = word_at(address_of(i, turn));
        for (unsigned w = 0; w < WORDS; w++) {
            CHECK_EQ(word[w], marked(value + number), "the victim's page %u, word %u", i,
                     (uint64_t)w);
            word[w] = marked(value + number + 1);
            checksum = checksum * CHECKSUM_STEP + marked(value + number + 1);
            value = step(value);
        }
    }
    return checksum;
}

static void fill(uint64_t seed)
{
    uint64_t value = seed;

    for (uint64_t i = 0; i < pages; i++) {
        for (unsigned w = 0; w < WORDS; w++) {
            word_at(frames[i])[w] = marked(value);
            value = step(value);
        }
    }
}

void guest_main(void)
{
    uint64_t seed = arg_number("seed", 1), ms = arg_number("ms", 100);
    uint64_t passes = 0, checksum = 0, turn = 0;

    pages = arg_number("pages", 64);
    args_done();
    if (pages == 0 || pages > ENTRIES)
        fail("pages must be 1 to 512\n");
    frames = (uint64_t *)page_alloc();
    for (uint64_t i = 0; i < pages; i++)
        frames[i] = page_alloc();
    root = space_new();
    write_cr3(root);
    map_pages(0);
    fill(seed);

    uint64_t end = rdtsc() + guest_info->tsc_hz / MS_A_SECOND * ms;
    do {
        checksum = pass(seed, turn, passes++);
        if (passes % REMAP_EVERY == 0)
            map_pages(++turn);
    } while (rdtsc() < end);
    print("victim passes=%u checksum=0x%x\n", passes, checksum);
}
