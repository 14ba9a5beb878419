/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle of hv/paging: random guest programs on a model machine.
 *
 *   processor.c  a model processor that walks guest tables, nodes and EPT by the manual's rules,
 *                and keeps in its TLBs and paging-structure caches what it may keep
 *   machine.c    RAM, processors and the hypervisor's side of exits
 *   reference.c  what a machine without a hypervisor could answer to an access
 *   program.c    the guest programs, and the comparison
 *
 * Everything that is left to chance comes from `struct chance`: a seeded generator, or a fuzzer's
 * bytes.
 */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include <stdio.h>

#include "hv/paging/compound.h"
#include "hv/paging/pte.h"

/* --- chance ----------------------------------------------------------------------------------- */

struct chance {
    uint64_t state;
    const uint8_t *bytes; /* NULL: the generator */
    size_t left;
};

struct chance chance_of_seed(uint64_t seed);
uint64_t chance_next(struct chance *chance);
unsigned below(struct chance *chance, unsigned n);
static inline bool one_in(struct chance *chance, unsigned n)
{
    return below(chance, n) == 0;
}

/* --- the machine ------------------------------------------------------------------------------ */

#define RAM_BYTES     MIB(4)
#define RAM_HIGH      KIB(64) /* at 4 GiB */
#define RAM_BASE      0x40000000ull
#define NODE_HPA      0x80000000ull
#define LOW_FRAMES    24u /* guest tables and data: the first frames of RAM, */
#define HOT_FRAMES    28u /* and these and the first four of high RAM are what programs use */
#define PROCESSORS    2u /* that walk; a third only stores, through an identity map without a root */
#define PCIDS         4u
#define TLB_ENTRIES   512u
#define NODES_MAX     64u
#define PHYSICAL_BITS 40u

struct tlb_entry {
    bool valid, without_ept, global;
    uint64_t page, span; /* gva, bytes */
    uint64_t to;         /* host-physical of byte 0 */
    unsigned pcid;
    bool writable, user, execute, dirty, ept_writable;
};

/* A paging-structure-cache entry: where the table for a prefix of the address lies. */
struct psc_entry {
    bool valid, without_ept;
    unsigned level; /* of the table that it leads to */
    uint64_t prefix, table;
    unsigned pcid;
    bool writable, user, execute;
};

struct processor {
    struct cpt_cpu cpt;
    uint64_t processor_cr3; /* what CR3 holds: the guest's or a node's address */
    enum cpt_state state;   /* as it was entered */
    unsigned pcid;
    bool nxe, smep, smap, ac;
    bool forgetful; /* a fault drops what is cached of all addresses */
    struct tlb_entry tlb[TLB_ENTRIES];
    struct psc_entry psc[TLB_ENTRIES];
    unsigned tlb_next, psc_next;
    bool ept_stale_writable[HOT_FRAMES]; /* a guest-physical mapping that still grants writes */
    /* Times of the guest's own invalidations, for the reference */
    uint64_t flushed[PCIDS], flushed_global;
};

/* The hot frame that an address lies in, HOT_FRAMES for none; and back. */
static inline unsigned hot_frame(uint64_t at)
{
    if (at < LOW_FRAMES * PAGE_SIZE)
        return (unsigned)(at >> PAGE_SHIFT);
    if (at >= GIB(4) && at < GIB(4) + (HOT_FRAMES - LOW_FRAMES) * PAGE_SIZE)
        return LOW_FRAMES + (unsigned)((at - GIB(4)) >> PAGE_SHIFT);
    return HOT_FRAMES;
}

static inline uint64_t hot_gpa(unsigned frame)
{
    return frame < LOW_FRAMES ? frame * PAGE_SIZE : GIB(4) + (frame - LOW_FRAMES) * PAGE_SIZE;
}

struct change { /* of a word in a hot frame */
    uint64_t time, at, old;
};

#define CHANGES_MAX 4096u

#define TRACE_EVENTS 64u /* a ring */

/* How programs are made: seeds that were kept mean a difference only by what made them. */
enum programs {
    PROGRAMS_NOW,
    PROGRAMS_BEFORE_FEW_LINKS,    /* there were always more than a program needs */
    PROGRAMS_BEFORE_INSTRUCTIONS, /* every access was an instruction of its own */
    PROGRAMS_BEFORE_BYSTANDERS,   /* no processor ran while the hypervisor worked for another */
    PROGRAMS_BEFORE_CHANGES,      /* the policy stayed what it was */
    PROGRAMS_BEFORE_NARROW, /* and all addresses alike; a fault forgot all paging-structure caches
                             */
    PROGRAMS_BEFORE_UNSYNC, /* and tables could not go out of sync */
};

enum outcome_kind { OUTCOME_OK, OUTCOME_FAULT, OUTCOME_NO_RAM };

struct outcome {
    enum outcome_kind kind;
    uint32_t error_code;
    uint64_t gpa; /* OK and NO_RAM of the final access */
};

#define EXITED_NONE PROCESSORS
#define EXITED_ALL  (PROCESSORS + 1)

struct machine {
    struct chance chance;
    enum programs programs;
    uint8_t *ram;     /* RAM_BYTES + RAM_HIGH */
    uint64_t *before; /* the hot frames before the step */
    struct processor cpu[PROCESSORS + 1];
    uint64_t *nodes[CPT_FORMATS];
    void *book;
    struct cpt *cpt;
    struct trace trace;
    uint64_t events[TRACE_EVENTS *
                    (TRACE_RINGS * sizeof(struct trace_event) + sizeof(struct trace_region)) / 8];
    bool ept_writable[HOT_FRAMES]; /* frames above are never tables */
    unsigned levels;
    bool kind_walker; /* sets A and D in write-protected tables, as Bochs does */
    bool reuse;       /* prefers what is cached to a fresh walk */
    bool narrow;   /* most accesses by the same tables, most stores to them: what is stale is met */
    bool orderly;  /* tables of a level lead to those of the next, as kernels have them, */
    unsigned busy; /* and one leaf table at a time is written most */
    bool restless; /* the policy is changed now and then */
    uint64_t now;
    struct change change[CHANGES_MAX];
    unsigned changes;
    uint64_t forgotten; /* changes before this time are not in the list any more */
    struct {            /* INVLPGs of a processor */
        uint64_t page, time;
        unsigned pcid;
    } invlpg[PROCESSORS][64];
    unsigned invlpgs[PROCESSORS];
    /*
     * A processor that is in its guest goes on until an invalidation reaches it: at that moment it
     * reads once more, by what there is then. What it finds is judged then, and if need be again
     * when the step is over, with what the step stored.
     */
    void (*look_on)(struct machine *m);
    struct chance others;
    unsigned exited; /* the processor that the hypervisor works for, or what EXITED_... says */
    struct seen {
        unsigned cpu;
        uint64_t gva;
        enum cpt_state state;
        struct outcome got;
        bool allowed; /* by what was in memory then; else by what the step has made of it */
    } seen;
    bool has_seen;
    uint64_t looked_on; /* how often */
    bool verbose;       /* print each exit and each event */
    struct trace_cursor printed;
    uint64_t violations;
    uint64_t policies;           /* that were changed for another */
    uint64_t judged, not_judged; /* accesses that the reference was asked about, and of which it
                                    knew too little: those pass */
    bool
        kicked; /* an invalidation: every processor must take over what changed before it goes on */
    char wrong[200]; /* "" as long as all is well */
};

bool machine_create(struct machine *m);
void machine_destroy(struct machine *m);
/* A fresh guest on it: RAM cleared, a new compound table, its pools so large. */
void machine_start(struct machine *m, const struct cpt_settings *settings,
                   const uint32_t nodes[CPT_FORMATS]);
/* The same by chance. */
void machine_reset(struct machine *m);
/* Whether the n-th node of a format is in use. */
bool machine_node_used(const struct machine *m, enum cpt_format format, unsigned n);
/* A hot frame's content. */
uint64_t *machine_frame(const struct machine *m, unsigned frame);
/* Carry out an access of `cpu` by the hypervisor's rules; a store writes `value` (8 bytes,
 * aligned). */
struct outcome machine_access(struct machine *m, unsigned cpu, uint64_t gva, unsigned access,
                              uint64_t value);
/* An instruction that reads at all of these addresses. False when it exited, and starts again. */
bool machine_read_all(struct machine *m, unsigned cpu, const uint64_t *gva, unsigned count);
#define EXITS_MAX 64u /* for one access: more is an endless loop */
/* A store by guest-physical address, from a processor whose own tables map it (and are not
 * modelled). */
void machine_store(struct machine *m, uint64_t gpa, uint64_t value);
/* Of the links, so many are left: before the guest's first instruction. */
void machine_leave_links(struct machine *m, uint32_t count);
void machine_load_cr3(struct machine *m, unsigned cpu, uint64_t cr3, bool keep);
void machine_invlpg(struct machine *m, unsigned cpu, uint64_t gva);
/* Another policy, by chance, while the program runs. */
void machine_change_policy(struct machine *m);
/* Take over a state that the hypervisor changed. */
void machine_refresh(struct machine *m, unsigned cpu);
__attribute__((format(printf, 2, 3))) void machine_wrong(struct machine *m, const char *format,
                                                         ...);

/* Rights, shared by machine and reference: NULL rights bits as they come from the walk. */
struct rights {
    bool writable, user, execute;
};
/* 0, or PF_P when the access is not allowed. */
bool rights_allow(const struct processor *cpu, struct rights rights, unsigned access);
uint32_t fault_code(const struct processor *cpu, unsigned access, uint32_t cause);
bool reserved_entry(const struct machine *m, const struct processor *cpu, uint64_t e,
                    unsigned level);

/* --- the reference ---------------------------------------------------------------------------- */

/* Whether a bare machine could have answered `got` to the access, A and D bits as they now are
 * included. */
bool reference_allows(struct machine *m, unsigned cpu, uint64_t gva, unsigned access,
                      const struct outcome *got);
/* Whether some leaf that a write by `cpu` to `gva`, which went to `stored`, may have used lies at
 * `at`. All guest-physical. */
bool reference_may_dirty(const struct machine *m, unsigned cpu, uint64_t gva, uint64_t stored,
                         uint64_t at);

/* --- programs --------------------------------------------------------------------------------- */

/* Run `steps` of a random program on a fresh guest. False with m->wrong. */
bool program_run(struct machine *m, unsigned steps);

#endif
