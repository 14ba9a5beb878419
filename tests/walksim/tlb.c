/* SPDX-License-Identifier: BSD-2-Clause */
/* See tlb.h. */
#include "tests/walksim/tlb.h"

#include <string.h>

#define PAGE_BITS  12
#define LARGE_BITS 21
#define LEVELS     4u

/* --- sizes -------------------------------------------------------------------------------------
 */

#define OPTIMIZATION "Intel 64 and IA-32 Architectures Optimization Reference Manual"

/*
 * TLBs: the Optimization Manual's tables of TLB parameters (2.2.5.3 Skylake, 2.4.4.2
 * Haswell, 2.5.5.4 Sandy Bridge). Paging-structure and nested caches are not documented by Intel:
 * sizes as measured or used by Bhattacharjee (MICRO 2013: 2 PML4, 4 PDPT, 32 PD entries) and Gandhi
 * et al. (MICRO 2014: a nested TLB shared with the L2's size order; 16 entries here, as AMD's of
 * Bhargava et al., ASPLOS 2008).
 */
const struct processor_model processors[] = {
    {"skylake",
     OPTIMIZATION ", Skylake microarchitecture; Bhattacharjee 2013; Bhargava 2008",
     {64, 4},
     {32, 4},
     {1536, 12},
     true,
     {32, 4},
     {4, 4},
     {2, 2},
     {16, 16},
     {16, 16}},
    {"haswell",
     OPTIMIZATION ", Haswell microarchitecture; Bhattacharjee 2013; Bhargava 2008",
     {64, 4},
     {32, 4},
     {1024, 8},
     true,
     {32, 4},
     {4, 4},
     {2, 2},
     {16, 16},
     {16, 16}},
    {"sandybridge",
     OPTIMIZATION ", Sandy Bridge microarchitecture; Bhattacharjee 2013; Bhargava 2008",
     {64, 4},
     {32, 4},
     {512, 4},
     false,
     {32, 4},
     {4, 4},
     {2, 2},
     {16, 16},
     {16, 16}},
};
const unsigned processor_count = sizeof(processors) / sizeof(processors[0]);

const struct processor_model *processor_find(const char *name)
{
    for (unsigned i = 0; i < processor_count; i++) {
        if (strcmp(processors[i].name, name) == 0)
            return &processors[i];
    }
    return NULL;
}

/* --- one cache ---------------------------------------------------------------------------------
 */

void cache_init(struct cache *c, unsigned entries, unsigned ways)
{
    memset(c, 0, sizeof(*c));
    c->ways = ways;
    c->sets = entries / ways;
}

static struct cache_entry *set_of(struct cache *c, uint64_t index)
{
    return &c->entry[index % c->sets * c->ways];
}

struct cache_entry *cache_find(struct cache *c, uint64_t index, uint64_t tag)
{
    struct cache_entry *set = set_of(c, index);

    for (unsigned i = 0; i < c->ways; i++) {
        if (set[i].tag == tag) {
            set[i].used = ++c->now;
            return &set[i];
        }
    }
    return NULL;
}

struct cache_entry *cache_put(struct cache *c, uint64_t index, uint64_t tag)
{
    struct cache_entry *set = set_of(c, index), *oldest = set;

    for (unsigned i = 0; i < c->ways; i++) {
        if (set[i].tag == tag || set[i].tag == 0) {
            oldest = &set[i];
            if (set[i].tag == tag)
                break;
        } else if (oldest->tag != 0 && set[i].used < oldest->used) {
            oldest = &set[i];
        }
    }
    *oldest = (struct cache_entry){.tag = tag, .used = ++c->now};
    return oldest;
}

void cache_drop(struct cache *c, uint64_t index, uint64_t tag)
{
    struct cache_entry *e = cache_find(c, index, tag);

    if (e)
        *e = (struct cache_entry){0};
}

void cache_clear(struct cache *c, bool globals_too)
{
    for (unsigned i = 0; i < c->sets * c->ways; i++) {
        if (globals_too || !c->entry[i].global)
            c->entry[i] = (struct cache_entry){0};
    }
}

/* --- the TLB -----------------------------------------------------------------------------------
 */

static void shape(struct cache *c, struct cache_shape s)
{
    cache_init(c, s.entries, s.ways);
}

void tlb_init(struct tlb *t, const struct processor_model *model)
{
    t->model = model;
    shape(&t->l1_4k, model->l1_4k);
    shape(&t->l1_2m, model->l1_2m);
    shape(&t->l2, model->l2);
    shape(&t->pde, model->pde);
    shape(&t->pdpte, model->pdpte);
    shape(&t->pml4e, model->pml4e);
    shape(&t->nested, model->nested);
    shape(&t->ept_pde, model->ept_pde);
}

/* Tags say the size, so that one cache may hold both; page 0 has a tag too. */
static uint64_t tag_of(uint64_t va, bool large)
{
    return (va >> (large ? LARGE_BITS : PAGE_BITS)) << 2 | (large ? 3 : 1);
}

static uint64_t index_of(uint64_t va, bool large)
{
    return va >> (large ? LARGE_BITS : PAGE_BITS);
}

static struct cache_entry *find(struct cache *c, uint64_t va, bool large, bool write)
{
    struct cache_entry *e = cache_find(c, index_of(va, large), tag_of(va, large));

    return e && (!write || e->writable) ? e : NULL;
}

static void put(struct cache *c, uint64_t va, bool large, bool global, bool writable)
{
    struct cache_entry *e = cache_put(c, index_of(va, large), tag_of(va, large));

    e->global = global;
    e->writable = writable;
}

enum tlb_hit tlb_find(struct tlb *t, uint64_t va, bool write)
{
    if (find(&t->l1_4k, va, false, write) || find(&t->l1_2m, va, true, write))
        return TLB_L1;
    for (unsigned large = 0; large <= t->model->l2_has_2m; large++) {
        const struct cache_entry *e = find(&t->l2, va, large, write);
        if (!e)
            continue;
        put(large ? &t->l1_2m : &t->l1_4k, va, large, e->global, e->writable);
        return TLB_L2;
    }
    return TLB_MISS;
}

void tlb_put(struct tlb *t, uint64_t va, bool large, bool global, bool writable)
{
    put(large ? &t->l1_2m : &t->l1_4k, va, large, global, writable);
    if (!large || t->model->l2_has_2m)
        put(&t->l2, va, large, global, writable);
}

static void clear_structures(struct tlb *t)
{
    cache_clear(&t->pde, true);
    cache_clear(&t->pdpte, true);
    cache_clear(&t->pml4e, true);
}

void tlb_invlpg(struct tlb *t, uint64_t va)
{
    for (unsigned large = 0; large <= 1; large++) {
        cache_drop(large ? &t->l1_2m : &t->l1_4k, index_of(va, large), tag_of(va, large));
        cache_drop(&t->l2, index_of(va, large), tag_of(va, large));
    }
    clear_structures(t); /* of the current PCID, whatever the address, SDM 3A 4.10.4.1 */
}

static void clear_translations(struct tlb *t, bool globals_too)
{
    cache_clear(&t->l1_4k, globals_too);
    cache_clear(&t->l1_2m, globals_too);
    cache_clear(&t->l2, globals_too);
    clear_structures(t);
}

void tlb_load_cr3(struct tlb *t)
{
    clear_translations(t, false);
}

void tlb_clear(struct tlb *t)
{
    clear_translations(t, true);
    cache_clear(&t->nested, true);
    cache_clear(&t->ept_pde, true);
}

/* --- references --------------------------------------------------------------------------------
 */

unsigned walk_references_plain(const struct walk_path *p)
{
    unsigned references = p->data.ept_levels;

    for (unsigned i = 0; i < p->count; i++)
        references += 1 + p->table[i].ept_levels;
    return references;
}

/* The EPT walk for one guest-physical page, with what is cached of it. */
static unsigned ept_walk(struct tlb *t, const struct walk_step *s)
{
    bool large = s->ept_levels < LEVELS;
    uint64_t page = s->gpa >> (s->ept_levels == 2 ? 30 : large ? LARGE_BITS : PAGE_BITS);
    uint64_t tag = page << 3 | s->ept_levels | 1ull << 62;
    uint64_t above = (s->gpa >> (s->ept_levels == LEVELS ? LARGE_BITS : 30)) << 1 | 1;

    if (s->ept_levels == 0 || cache_find(&t->nested, page, tag))
        return 0;
    cache_put(&t->nested, page, tag);
    if (cache_find(&t->ept_pde, above, above))
        return 1;
    cache_put(&t->ept_pde, above, above);
    return s->ept_levels;
}

/* Entries of level 2, 3 and 4 that lead to tables, by the address's bits above what they translate.
 */
unsigned walk_references_cached(struct tlb *t, uint64_t va, const struct walk_path *p)
{
    struct cache *structure[] = {&t->pml4e, &t->pdpte, &t->pde};
    static const unsigned shift[] = {39, 30, 21};
    unsigned first = 0, references = 0;

    for (unsigned i = p->count - 1; i > 0 && first == 0; i--) {
        uint64_t tag = va >> shift[i - 1];
        if (cache_find(structure[i - 1], tag, tag << 1 | 1))
            first = i;
    }
    for (unsigned i = first; i < p->count; i++) {
        /* What a paging-structure cache names is a host address (SDM 3C 28.4.1, combined mappings).
         */
        references += 1 + (i == first && first > 0 ? 0 : ept_walk(t, &p->table[i]));
        if (i + 1 < p->count) {
            uint64_t tag = va >> shift[i];
            cache_put(structure[i], tag, tag << 1 | 1);
        }
    }
    return references + ept_walk(t, &p->data);
}
