/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When to handle what how. A policy sees counters and answers with decisions; it touches no table.
 *
 *   static      what the settings say, never changed
 *   threshold   the paper's rule: demote at the second write within an interval, promote after K
 *               unchanged intervals
 *   cost        weighs what an exit costs against the references that shadow handling saves
 *   shsp        whole address spaces, SHADOW or NESTED, by TLB misses against exits: selective
 *               hardware/software memory virtualization (Wang et al., VEE 2011)
 */
#ifndef HV_PAGING_POLICY_H
#define HV_PAGING_POLICY_H

#include "hv/types.h"

enum cpt_state { CPT_NESTED, CPT_COMPOUND, CPT_SHADOW, CPT_STATES };

enum policy_kind { POLICY_COST, POLICY_THRESHOLD, POLICY_STATIC, POLICY_SHSP, POLICY_KINDS };

struct policy_settings {
    enum policy_kind kind;
    bool pinned_shadow;     /* paging = shadow: roots are SHADOW as soon as they can be, nothing is
                               demoted */
    unsigned switch_level;  /* static: tables up to this level are nested-handled; the number of
                               levels:  roots stay NESTED */
    uint32_t demote_writes; /* threshold: trapped writes in an interval that demote */
    uint32_t promote_unchanged; /* intervals without a change that promote, before any back-off */
    uint32_t quick_return;   /* a table demoted within so many intervals of its promotion came back
                                quickly: its promote_unchanged doubles */
    uint32_t root_age;       /* intervals that a root must have run in before it leaves NESTED */
    uint32_t cost_exit;      /* cycles, of a trapped write or a CR3 load that exits */
    uint32_t cost_reference; /* cycles, of a reference in a page walk */
    uint32_t walk_ticks;     /* ticks of guest time between two TLB misses, assumed */
    uint32_t walks_per_load; /* TLB misses that a CR3 load causes, assumed; less when a root runs
                                short */
    /* What KVM's shadow paging has; 0: not. */
    uint32_t unsync_writes; /* trapped writes in an interval after which a leaf table of SHADOW goes
                               out of sync */
    uint32_t flood_writes;  /* pinned shadow: trapped writes to a table that is not walked (2 at
                               the least) after which its nodes are dropped */
    uint32_t prefetch;      /* entries about one that is synced, in a table out of sync, that are
                               synced with it */
};

/* What a VM has that says nothing else; docs/paging.md has the reasons. */
extern const struct policy_settings policy_default;

/* A shadow-handled table at a trapped write, or a nested-handled one at an interval's end. */
struct policy_table {
    unsigned level;  /* the lowest at which it is in use */
    uint32_t writes; /* trapped in this interval, this one included */
    uint32_t syncs;  /* other exits in SHADOW on its account, likewise */
    uint32_t flood;  /* trapped since SHADOW last walked through it */
    bool is_unsync;  /* out of sync; else whether it could be */
    bool can_unsync;
    uint32_t unchanged;        /* intervals in a row that found the same content */
    uint32_t wanted_unchanged; /* promote_unchanged with its back-off */
    enum cpt_state walker;     /* the state of the root that runs */
    uint64_t interval;         /* ticks */
    uint64_t walk_ticks; /* ticks between two TLB misses of the root that runs, counted; 0: nobody
                            counts */
    uint64_t since_demotion; /* intervals; the largest number when it never was */
};

struct policy_root {
    enum cpt_state state;
    uint64_t age;       /* intervals in which it ran */
    uint64_t ran;       /* ticks that it ran in the recent past */
    uint64_t loads;     /* CR3 loads of it in the same time */
    uint64_t misses;    /* TLB misses in the same time, 0 where nobody counts them */
    uint64_t updates;   /* stores to its page tables, likewise */
    uint64_t exits;     /* of SHADOW, other than CR3 loads */
    bool blocked;       /* something that it uses is nested-handled: SHADOW is not to be had */
    uint64_t state_age; /* intervals since its state changed */
    uint32_t backoff;   /* doubles each time that it fell soon after it rose, from 1 */
    unsigned saved_compound, saved_shadow; /* references a walk that COMPOUND and SHADOW save */
};

/* Whether tables begin shadow-handled when a root first reaches them at `level`. */
bool policy_starts_shadow(const struct policy_settings *s, unsigned level);

/* What becomes of the table after an exit on its account. */
enum policy_answer {
    POLICY_KEEP,
    POLICY_UNSYNC, /* let it go out of sync */
    POLICY_DEMOTE, /* give it to nested handling */
    POLICY_ZAP,    /* drop its nodes, until it is walked again */
};

/* Before so many trapped writes in an interval there is nothing to ask. */
uint32_t policy_first_write(const struct policy_settings *s);

enum policy_answer policy_at_write(const struct policy_settings *s,
                                   const struct policy_table *table);

/* At each interval's end a root's counts lose their 2^n-th part: the n. */
unsigned policy_memory(const struct policy_settings *s);

/* Whether tables are never promoted nor demoted. */
bool policy_keeps_handling(const struct policy_settings *s);

/* At an interval's end: take the table back to shadow handling? */
bool policy_promotes(const struct policy_settings *s, const struct policy_table *table);

/* A root in SHADOW meets the nested-handled table: take it back at once, so that the root stays in
 * SHADOW? */
bool policy_promotes_for_use(const struct policy_settings *s, const struct policy_table *table);

/* The state that a root should have. */
enum cpt_state policy_root_state(const struct policy_settings *s, const struct policy_root *root);

const char *policy_name(enum policy_kind kind);
const char *cpt_state_name(enum cpt_state state);

#endif
