/* SPDX-License-Identifier: BSD-2-Clause */
/* The frame allocator against a bitmap, and what it is made for: large aligned runs that stay
 * whole. */
#include "hv/frames.h"

#include <stdlib.h>
#include <string.h>

#include "tests/host/panic.h"
#include "tests/host/test.h"

#define PAGES 8192u
#define BASE  MIB(16)

static struct frames frames;
static uint8_t memory[PAGES][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static void *reach(hpa_t at)
{
    return (uint8_t *)memory + (at.v - BASE);
}

static void what_is_added_is_free(void)
{
    frames_init(&frames, reach);
    CHECK(frames_add(&frames, hpa(BASE + 5), MIB(4)), "refused");
    CHECK(frames.free_bytes == MIB(4) - PAGE_SIZE, "%llu", (unsigned long long)frames.free_bytes);
    CHECK(!frames_add(&frames, hpa(BASE + MIB(1)), MIB(1)), "an overlap was accepted");
    CHECK(frames_add(&frames, hpa(0), PAGE_SIZE * 3), "refused");
    CHECK(frames.extent[0].base == PAGE_SIZE, "page 0 must be left out");
    CHECK(frames_add(&frames, hpa(BASE), 100), "less than a page adds nothing");
    CHECK(hpa_is_none(frames_alloc(&frames, GIB(1), PAGE_SIZE)), "more than there is");
    CHECK(hpa_is_none(frames_alloc(&frames, 0, PAGE_SIZE)), "nothing");
}

/* Random requests: no two overlap, all lie in what was added, all come back. */
static void random_use_agrees_with_a_bitmap(void)
{
    static uint8_t used[PAGES];
    static struct {
        uint64_t page, count;
    } live[2048];
    size_t lives = 0;
    uint64_t random = 3, free_pages = PAGES;

    memset(used, 0, sizeof(used));
    frames_init(&frames, reach);
    frames_add(&frames, hpa(BASE), PAGES * PAGE_SIZE);
    for (unsigned n = 0; n < 200000; n++) {
        if (lives < 600 && test_random(&random) % 2) {
            uint64_t count = 1 + test_random(&random) % (test_random(&random) % 8 ? 4 : 600);
            uint64_t align = PAGE_SIZE << test_random(&random) % 10;
            hpa_t got = frames_alloc(&frames, count * PAGE_SIZE, align);
            if (hpa_is_none(got))
                continue;
            CHECK(is_aligned(got.v, align) && got.v >= BASE, "at 0x%llx",
                  (unsigned long long)got.v);
            uint64_t page = (got.v - BASE) / PAGE_SIZE;
            CHECK(page + count <= PAGES, "beyond the end");
            for (uint64_t i = page; i < page + count; i++)
                CHECK(!used[i]++, "page %llu is given twice", (unsigned long long)i);
            live[lives].page = page;
            live[lives++].count = count;
            free_pages -= count;
        } else if (lives > 0) {
            size_t pick = test_random(&random) % lives;
            frames_free(&frames, hpa(BASE + live[pick].page * PAGE_SIZE),
                        live[pick].count * PAGE_SIZE);
            memset(&used[live[pick].page], 0, live[pick].count);
            free_pages += live[pick].count;
            live[pick] = live[--lives];
        }
        CHECK(frames.free_bytes == free_pages * PAGE_SIZE, "free bytes");
    }
    while (lives-- > 0)
        frames_free(&frames, hpa(BASE + live[lives].page * PAGE_SIZE),
                    live[lives].count * PAGE_SIZE);
    CHECK(frames.extent_count == 1 && frames.free_bytes == PAGES * PAGE_SIZE, "not joined again");
}

/* Small runs are cut from odd ends, so that the aligned blocks stay whole. */
static void small_runs_spare_large_blocks(void)
{
    frames_init(&frames, reach);
    frames_add(&frames, hpa(GIB(1) - MIB(3)),
               GIB(1) + MIB(3)); /* a whole GiB, and 3 MiB before it */
    for (unsigned n = 0; n < 256; n++) {
        hpa_t got = frames_alloc(&frames, PAGE_SIZE, PAGE_SIZE);
        CHECK(got.v < GIB(1) - MIB(2), "page %u breaks a 2-MiB block: 0x%llx", n,
              (unsigned long long)got.v);
    }
    CHECK(frames_alloc(&frames, MIB(2), MIB(2)).v == GIB(1) - MIB(2), "the 2-MiB block");
    CHECK(frames_largest(&frames, GIB(1)) == GIB(1), "the GiB was broken");
    CHECK(frames_alloc(&frames, GIB(1), GIB(1)).v == GIB(1), "the GiB");
    CHECK(hpa_is_none(frames_alloc(&frames, PAGE_SIZE, PAGE_SIZE)), "there is nothing left");
}

static void freeing_twice_panics(void)
{
    jmp_buf back;

    frames_init(&frames, reach);
    frames_add(&frames, hpa(BASE), MIB(1));
    hpa_t got = frames_alloc(&frames, PAGE_SIZE, PAGE_SIZE);
    frames_free(&frames, got, PAGE_SIZE);
    panic_expected = &back;
    panic_text[0] = '\0';
    if (setjmp(back) == 0)
        frames_free(&frames, got, PAGE_SIZE);
    panic_expected = NULL;
    CHECK(strstr(panic_text, "freed twice"), "no panic");
}

static void a_full_table_refuses(void)
{
    frames_init(&frames, reach);
    for (uint64_t i = 0; i < FRAMES_EXTENTS_MAX; i++)
        CHECK(frames_add(&frames, hpa(BASE + i * 2 * PAGE_SIZE), PAGE_SIZE), "piece %llu",
              (unsigned long long)i);
    uint64_t before = frames.free_bytes;
    CHECK(!frames_add(&frames, hpa(GIB(1)), PAGE_SIZE), "one more was accepted");
    CHECK(frames.free_bytes == before, "free bytes changed");
}

#define PIECES (2 * FRAMES_EXTENTS_MAX + 7)

/* Two owners take single pages in turn, then one gives all of its own back: each is a piece of its
 * own, and there are more than the table holds. */
static void cut_into_pieces(hpa_t *kept, hpa_t *freed)
{
    frames_init(&frames, reach);
    frames_add(&frames, hpa(BASE), PAGES * PAGE_SIZE);
    for (unsigned i = 0; i < PIECES; i++) {
        kept[i] = frames_alloc(&frames, PAGE_SIZE, PAGE_SIZE);
        freed[i] = frames_alloc(&frames, PAGE_SIZE, PAGE_SIZE);
    }
    for (unsigned i = 0; i < PIECES; i++)
        frames_free(&frames, freed[i], PAGE_SIZE);
}

static void more_pieces_than_the_table_holds(void)
{
    static hpa_t kept[PIECES], freed[PIECES];

    cut_into_pieces(kept, freed);
    CHECK(frames.extent_count == FRAMES_EXTENTS_MAX, "%zu pieces", frames.extent_count);
    CHECK(frames.free_bytes == (PAGES - PIECES) * PAGE_SIZE, "0x%llx bytes are free",
          (unsigned long long)frames.free_bytes);
    for (unsigned i = 0; i < PIECES; i++)
        frames_free(&frames, kept[i], PAGE_SIZE);
    CHECK(frames.extent_count == 1 && frames.extent[0].size == PAGES * PAGE_SIZE,
          "not joined again: %zu pieces", frames.extent_count);
    CHECK(hpa_is_none(frames.spilled), "one is left out");
}

static void pieces_beyond_the_table_are_given_out(void)
{
    static hpa_t kept[PIECES], freed[PIECES];
    static uint8_t times[PAGES];
    unsigned given = 0;
    hpa_t got;

    cut_into_pieces(kept, freed);
    for (unsigned i = 0; i < PIECES; i++)
        times[(kept[i].v - BASE) / PAGE_SIZE]++;
    while (!hpa_is_none(got = frames_alloc(&frames, PAGE_SIZE, PAGE_SIZE))) {
        CHECK(!times[(got.v - BASE) / PAGE_SIZE]++, "a page is given twice");
        given++;
    }
    CHECK(given == PAGES - PIECES && frames.free_bytes == 0, "%u pages came", given);
}

static void freeing_a_spilled_page_twice_panics(void)
{
    static hpa_t kept[PIECES], freed[PIECES];
    jmp_buf back;

    cut_into_pieces(kept, freed);
    panic_expected = &back;
    panic_text[0] = '\0';
    if (setjmp(back) == 0) {
        frames_free(&frames, freed[PIECES - 1], PAGE_SIZE);
        for (unsigned i = 0; i < PIECES; i++)
            frames_free(&frames, kept[i], PAGE_SIZE);
    }
    panic_expected = NULL;
    CHECK(strstr(panic_text, "freed twice"), "no panic");
}

static void the_least_that_was_free_is_noted(void)
{
    frames_init(&frames, reach);
    frames_add(&frames, hpa(BASE), MIB(1));
    frames_mark(&frames);
    hpa_t got = frames_alloc(&frames, KIB(64), PAGE_SIZE);
    frames_free(&frames, got, KIB(64));
    CHECK(frames.free_bytes == MIB(1) && frames.least_free == MIB(1) - KIB(64), "0x%llx",
          (unsigned long long)frames.least_free);
}

int main(void)
{
    RUN(what_is_added_is_free);
    RUN(random_use_agrees_with_a_bitmap);
    RUN(small_runs_spare_large_blocks);
    RUN(freeing_twice_panics);
    RUN(a_full_table_refuses);
    RUN(more_pieces_than_the_table_holds);
    RUN(pieces_beyond_the_table_are_given_out);
    RUN(freeing_a_spilled_page_twice_panics);
    RUN(the_least_that_was_free_is_noted);
    return test_status();
}
