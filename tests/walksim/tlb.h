/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A processor's translation caches: two levels of data TLB, paging-structure caches, and what
 * nested paging caches of EPT. Set-associative, least recently used goes first. One address space
 * at a time: without PCIDs a MOV to CR3 empties all but global translations, and a VM's are emptied
 * when the way of walking changes.
 */
#ifndef WALKSIM_TLB_H
#define WALKSIM_TLB_H

#include <stdbool.h>
#include <stdint.h>

struct cache_entry {
    uint64_t tag; /* never 0 for a valid one */
    uint64_t used;
    bool global, writable;
};

#define CACHE_ENTRIES_MAX 2048u

struct cache {
    unsigned sets, ways;
    uint64_t now;
    struct cache_entry entry[CACHE_ENTRIES_MAX];
};

void cache_init(struct cache *c, unsigned entries, unsigned ways);
/* The entry for `tag` (not 0) in the set that `index` chooses, or NULL. */
struct cache_entry *cache_find(struct cache *c, uint64_t index, uint64_t tag);
struct cache_entry *cache_put(struct cache *c, uint64_t index, uint64_t tag);
void cache_drop(struct cache *c, uint64_t index, uint64_t tag);
void cache_clear(struct cache *c, bool globals_too);

struct cache_shape {
    unsigned entries, ways;
};

/* A processor, with where its sizes come from. */
struct processor_model {
    const char *name, *source;
    struct cache_shape l1_4k, l1_2m;
    struct cache_shape l2; /* 4-KiB pages, and 2-MiB ones where l2_has_2m */
    bool l2_has_2m;
    struct cache_shape pde, pdpte, pml4e; /* paging-structure caches */
    struct cache_shape nested, ept_pde; /* guest-physical pages; entries of EPT above the leaves */
};

extern const struct processor_model processors[];
extern const unsigned processor_count;
const struct processor_model *processor_find(const char *name);

struct tlb {
    const struct processor_model *model;
    struct cache l1_4k, l1_2m, l2, pde, pdpte, pml4e, nested, ept_pde;
};

enum tlb_hit { TLB_L1, TLB_L2, TLB_MISS };

void tlb_init(struct tlb *t, const struct processor_model *model);
/* A translation that allows what is asked: a write by one that was not made by a write misses. */
enum tlb_hit tlb_find(struct tlb *t, uint64_t va, bool write);
void tlb_put(struct tlb *t, uint64_t va, bool large, bool global, bool writable);
void tlb_invlpg(struct tlb *t, uint64_t va);
void tlb_load_cr3(struct tlb *t); /* all but global translations */
void tlb_clear(struct tlb *t);    /* everything, also of EPT */

/*
 * References of a walk: tables met for `va`, the top one first, each entry's table at tables[i].gpa
 * and whether its address must go through EPT (of ept_levels references); and the page at `gpa`
 * where `final_ept`.
 */
struct walk_step {
    uint64_t gpa;
    unsigned ept_levels; /* 0: a host address */
};

struct walk_path {
    unsigned count; /* entries read, without caches */
    struct walk_step table[5];
    struct walk_step data;
};

/* Without any cache, and with those of the processor, which learn the walk. */
unsigned walk_references_plain(const struct walk_path *p);
unsigned walk_references_cached(struct tlb *t, uint64_t va, const struct walk_path *p);

#endif
