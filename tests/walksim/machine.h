/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated machine: a processor with its translation caches, a guest's RAM, and a hypervisor,
 * which is the real hv/paging over a simple EPT, or none. It walks guest tables and nodes as the
 * processor would, carries exits to hv/paging, and counts.
 */
#ifndef WALKSIM_MACHINE_H
#define WALKSIM_MACHINE_H

#include "hv/paging/compound.h"
#include "tests/walksim/tlb.h"

enum technique {
    NATIVE,
    NESTED,
    SHADOW,
    SHSP,
    COMPOUND,           /* policy cost, on processors that exist */
    COMPOUND_THRESHOLD, /* the same with the paper's policy */
    IDEAL, /* the paper's processor: a switching bit in the entry, the paper's policy */
    TECHNIQUES
};

extern const char *const technique_names[TECHNIQUES];

/* Where the guest's kernel has all of its RAM mapped, in 2-MiB global pages. */
#define DIRECT_MAP 0xffff888000000000ull

enum exit_kind {
    EXIT_TABLE_WRITE, /* a store to a write-protected table */
    EXIT_SYNC_TABLE,  /* a node's entry that leads to a table was made */
    EXIT_SYNC_LEAF,   /* a leaf was made, or made writable: A or D of the guest's entry */
    EXIT_GUEST_FAULT, /* a page fault of the guest's own that was handed back */
    EXIT_CR3,
    EXIT_INVLPG,
    EXIT_KINDS
};

extern const char *const exit_names[EXIT_KINDS];

/* Of nesting: the level at which the walk goes on in guest tables, 0 (nowhere) to 4; 5: native. */
#define DEGREES 6u

struct counts {
    uint64_t instructions, accesses, l2_hits, misses;
    uint64_t references, references_cached; /* of all misses */
    uint64_t misses_by_degree[DEGREES], references_by_degree[DEGREES];
    uint64_t exits[EXIT_KINDS];
    uint64_t table_stores; /* by the guest, trapped or not */
    uint64_t page_faults;  /* of the guest's own */
    uint64_t promotions, demotions, invalidations;
};

struct options {
    enum technique technique;
    const struct processor_model *processor;
    uint64_t ram;      /* bytes */
    bool large_ept;    /* EPT pages of 2 MiB, else 4 KiB */
    bool hardware_ad;  /* IDEAL: A and D without exits */
    bool hardware_cr3; /* IDEAL: pairs of roots cached, no exit for a MOV to CR3 */
    uint64_t interval; /* of the profiler, instructions */
    uint32_t cost_exit, cost_reference;
};

struct machine {
    struct options options;
    uint8_t *ram;
    struct tlb tlb;
    struct cpt *cpt; /* NULL: NATIVE and NESTED */
    struct cpt_cpu cpu;
    struct trace trace;
    void *book;
    uint64_t *nodes[CPT_FORMATS];
    uint32_t node_count;
    uint64_t cr3;
    enum cpt_state state;   /* as the processor walks */
    uint8_t *is_protected;  /* a page of RAM */
    uint16_t *protected_in; /* pages of 2 MiB of RAM */
    uint64_t hot[4];        /* NESTED roots whose loads do not exit */
    unsigned hot_count;
    struct cpt_stats seen; /* when counting began */
    struct counts counts;
    const char *wrong; /* an inconsistency: the simulation is over */
};

/* What a walk finds, for an access that has no translation cached. */
enum access_result { ACCESS_OK, ACCESS_FAULT, ACCESS_BROKEN };

bool machine_create(struct machine *m, const struct options *options);
void machine_destroy(struct machine *m);
/* Forget what was counted: warm-up is over. */
void machine_begin_counting(struct machine *m);
/* Counts of hv/paging's own since then. */
void machine_end_counting(struct machine *m);

static inline uint64_t *machine_word(const struct machine *m, uint64_t gpa)
{
    return (uint64_t *)(void *)(m->ram + gpa);
}

/* Time goes on. */
void machine_run(struct machine *m, uint64_t instructions);
/* An access at `va`; ACCESS_FAULT: the guest's own page fault, for its kernel to handle. */
enum access_result machine_access(struct machine *m, uint64_t va, bool write, bool user);
/* The kernel's store of 8 bytes to a page table, by its direct map. */
void machine_store(struct machine *m, uint64_t gpa, uint64_t value);
void machine_load_cr3(struct machine *m, uint64_t root);
void machine_invlpg(struct machine *m, uint64_t va);

#endif
