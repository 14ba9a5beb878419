/* SPDX-License-Identifier: BSD-2-Clause */
/* The page-table editor against a flat array of pages: maps, changes, unmaps at random, and out of
 * memory. */
#include "hv/ptab.h"

#include <stdlib.h>
#include <string.h>

#include "hv/frames.h"
#include "tests/host/test.h"

#define READ  1ull
#define WRITE 2ull
#define SPAN  (8ull << 21) /* what the model covers: 16 MiB around a 1-GiB boundary */
#define FIRST (GIB(1) - SPAN / 2)
#define PAGES (SPAN / PAGE_SIZE)

static const struct ptab_format format = {.present = READ | WRITE, .table = READ | WRITE};

static int tables_left, tables_live;

static hpa_t table_alloc(void *context)
{
    (void)context;
    if (tables_left == 0)
        return HPA_NONE;
    tables_left--;
    tables_live++;
    void *page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
    memset(page, 0, PAGE_SIZE);
    return hpa((uint64_t)page);
}

static void table_free(void *context, hpa_t table)
{
    (void)context;
    tables_live--;
    free((void *)table.v);
}

static uint64_t *table_map(void *context, hpa_t table)
{
    (void)context;
    return (uint64_t *)table.v;
}

static const struct ptab_memory memory = {table_alloc, table_free, table_map, NULL};

struct page {
    bool present;
    uint64_t to, bits;
};
static struct page model[PAGES];

static void compare(const struct ptab *ptab)
{
    for (uint64_t i = 0; i < PAGES; i++) {
        struct ptab_leaf leaf = ptab_lookup(ptab, FIRST + i * PAGE_SIZE);
        CHECK(leaf.present == model[i].present, "page %llu: present", (unsigned long long)i);
        if (!leaf.present || !model[i].present)
            continue;
        CHECK(leaf.to.v == model[i].to, "page %llu leads to 0x%llx, not 0x%llx",
              (unsigned long long)i, (unsigned long long)leaf.to.v,
              (unsigned long long)model[i].to);
        CHECK(leaf.level > 1 || !(leaf.entry & PTAB_LARGE),
              "page %llu: bit 7 is PAT in a 4-KiB leaf", (unsigned long long)i);
        CHECK((leaf.entry & (READ | WRITE)) == model[i].bits, "page %llu: attributes",
              (unsigned long long)i);
    }
}

static void random_step(struct ptab *ptab, uint64_t *random)
{
    bool large = test_random(random) % 2;
    uint64_t unit = large ? 512 : 1;
    uint64_t first = test_random(random) % (PAGES / unit) * unit;
    uint64_t count = (1 + test_random(random) % (large ? 4 : 700)) * unit;
    count = min_u64(count, PAGES - first);
    uint64_t from = FIRST + first * PAGE_SIZE;
    uint64_t kind = test_random(random) % 3;
    uint64_t to = (test_random(random) % 4096) << (test_random(random) % 2 ? 21 : 12);
    uint64_t bits = test_random(random) % 2 ? READ : READ | WRITE;

    if (kind == 0)
        CHECK(ptab_map(ptab, from, count * PAGE_SIZE, hpa(to), bits), "map");
    else if (kind == 1)
        CHECK(ptab_change(ptab, from, count * PAGE_SIZE, WRITE, bits & WRITE), "change");
    else
        CHECK(ptab_unmap(ptab, from, count * PAGE_SIZE), "unmap");
    for (uint64_t i = first; i < first + count; i++) {
        if (kind == 0)
            model[i] = (struct page){true, to + (i - first) * PAGE_SIZE, bits};
        else if (kind == 1 && model[i].present)
            model[i].bits = (model[i].bits & ~WRITE) | (bits & WRITE);
        else if (kind == 2)
            model[i].present = false;
    }
}

static void random_edits_agree_with_a_flat_array(void)
{
    uint64_t random = 5;

    for (unsigned max_leaf = 1; max_leaf <= 3; max_leaf++) {
        struct ptab ptab;
        tables_left = 1000000;
        memset(model, 0, sizeof(model));
        CHECK(ptab_init(&ptab, &format, &memory, max_leaf == 3 ? 5 : 4, max_leaf), "init");
        for (unsigned n = 0; n < 300; n++) {
            random_step(&ptab, &random);
            compare(&ptab);
        }
        CHECK(ptab.tables == (uint64_t)tables_live, "%llu tables counted, %d live",
              (unsigned long long)ptab.tables, tables_live);
        ptab_destroy(&ptab);
        CHECK(tables_live == 0, "%d tables leaked", tables_live);
    }
}

static unsigned level_at(const struct ptab *ptab, uint64_t at)
{
    return ptab_lookup(ptab, at).level;
}

static void the_largest_leaves_are_used(void)
{
    struct ptab ptab;

    tables_left = 1000;
    ptab_init(&ptab, &format, &memory, 4, 3);
    ptab_map(&ptab, 0, GIB(3) + MIB(4) + PAGE_SIZE, hpa(GIB(8)), READ);
    CHECK(level_at(&ptab, GIB(2)) == 3, "1 GiB");
    CHECK(level_at(&ptab, GIB(3) + MIB(2)) == 2, "2 MiB");
    CHECK(level_at(&ptab, GIB(3) + MIB(4)) == 1, "4 KiB");
    CHECK(ptab.tables == 4, "%llu tables", (unsigned long long)ptab.tables);
    ptab_map(&ptab, 0, GIB(1), hpa(MIB(2)), READ);
    CHECK(level_at(&ptab, 0) == 2, "a target that is aligned to 2 MiB only");
    ptab_destroy(&ptab);

    ptab_init(&ptab, &format, &memory, 4, 2);
    ptab_map(&ptab, 0, GIB(1), hpa(0), READ);
    CHECK(level_at(&ptab, 0) == 2, "capped at 2 MiB");
    ptab_change(&ptab, MIB(4) + PAGE_SIZE, PAGE_SIZE, 0, WRITE);
    CHECK(level_at(&ptab, MIB(4)) == 1 && level_at(&ptab, MIB(2)) == 2, "one leaf split, no other");
    ptab_destroy(&ptab);
}

static void out_of_memory_is_an_answer(void)
{
    for (int tables = 0; tables < 4; tables++) {
        struct ptab ptab;
        tables_left = tables;
        bool made = ptab_init(&ptab, &format, &memory, 4, 3);
        CHECK(made == (tables > 0), "init with %d tables", tables);
        if (!made)
            continue;
        CHECK(!ptab_map(&ptab, 0, PAGE_SIZE, hpa(0), READ), "map with %d tables", tables);
        ptab_destroy(&ptab);
        CHECK(tables_live == 0, "%d tables leaked", tables_live);
    }
}

int main(void)
{
    RUN(random_edits_agree_with_a_flat_array);
    RUN(the_largest_leaves_are_used);
    RUN(out_of_memory_is_an_answer);
    return test_status();
}
