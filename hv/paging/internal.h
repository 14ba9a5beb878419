/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The structures behind compound.h, shared by the files of hv/paging and the oracle's invariants.
 *
 *   struct table   a guest table that we know: its handling, its nodes, who leads to it
 *   struct node    what stands for a table at one level in one format; its page holds the entries
 *   struct link    an entry of a node that leads to a table
 *   struct root    a guest root that was loaded
 *
 *      root -> node -link-> table -> node -link-> table (nested-handled: no nodes)
 */
#ifndef HV_PAGING_INTERNAL_H
#define HV_PAGING_INTERNAL_H

#include "hv/paging/compound.h"
#include "hv/paging/pte.h"

/*
 * What the oracle must notice when it is left out: a test build with -DCPT_BREAK=n breaks rule n
 * (docs/oracle.md).
 */
enum rule {
    RULE_INVALIDATE = 1,
    RULE_PROTECT_IN_EPT,
    RULE_PROTECT_LEAVES,
    RULE_INVALIDATE_BEFORE_READING,
    RULE_NODES_WAIT,
    RULE_CLEAN_NEEDS_D,
    RULE_SPLIT_ROUND_TABLES,
    RULE_RESERVED_FAULTS,
    RULE_UNUSED_TRAPS,
    RULE_DEMOTION_RELINKS,
    RULE_SHADOW_NEEDS_WP,
    RULE_STORES_SYNC,
    RULE_WRITES_SET_D,
    RULE_D_WHERE_WALK_STOPPED,
    RULE_LOADS_RESYNC,
    RULE_INVLPG_SYNCS,
    RULE_UNSYNC_HAS_NO_EMPTY,
    RULE_ENTERING_SHADOW_RESYNCS,
    RULE_RESYNC_PROTECTS,
    RULE_LINKS_RESYNC,
    RULE_CHANGE_INVALIDATES,
    RULE_GIVEN_UP_STAYS,
};

#ifdef CPT_BREAK
#define RULE(name) (CPT_BREAK != RULE_##name)
#else
#define RULE(name) true
#endif

/*
 * An entry of a node says in bits 11:9, which the processor ignores, what it is. All that are
 * present have A set and, as leaves, D, so that the walker never writes to a node.
 */
#define ENTRY_KIND_SHIFT 9
#define ENTRY_KIND_MASK  (7ull << ENTRY_KIND_SHIFT)

enum entry_kind {
    ENTRY_EMPTY,  /* the guest's entry is not present: all 0, whatever it holds (L1TF) */
    ENTRY_TRAP,   /* present in the guest's table, but not synced, or its A is clear */
    ENTRY_CLEAN,  /* a leaf, the guest's D is clear: no write */
    ENTRY_DIRTY,  /* a leaf */
    ENTRY_NODE,   /* leads to a node */
    ENTRY_SWITCH, /* leads to a nested-handled guest table; in SHADOW, a trap that stands for it */
    ENTRY_FAULT,  /* reserved bits are set, as in the guest's entry */
    ENTRY_SPLIT,  /* SHADOW: a large leaf of the guest's, mapped by a node of smaller ones */
};

static inline enum entry_kind entry_kind(uint64_t entry)
{
    return (enum entry_kind)(entry >> ENTRY_KIND_SHIFT & 7);
}

static inline uint64_t kind_bits(enum entry_kind kind)
{
    return (uint64_t)kind << ENTRY_KIND_SHIFT;
}

/*
 * UNSYNC: the guest writes the table freely and SHADOW walks its nodes all the same, as a processor
 * may use what it has cached (unsync.c). For COMPOUND it is as if nested-handled.
 */
enum handling { HANDLING_FREE, HANDLING_SHADOW, HANDLING_NESTED, HANDLING_UNSYNC, HANDLINGS };

struct table {
    uint64_t gfn;
    uint32_t hash_next;
    uint32_t nodes; /* list by node.next; none when nested-handled */
    uint32_t links; /* list by link.next */
    uint8_t handling;
    uint8_t level;      /* the lowest at which it is reached */
    uint8_t busy;       /* its nodes are being given up: not to be forgotten meanwhile */
    uint8_t was_unsync; /* it went out of sync lately */
    uint8_t idle;       /* nested-handled: the profiler found nothing in it that was used */
    uint32_t nested_next, nested_previous; /* ring of the nested-handled */
    uint32_t unsync_next;                  /* list of those out of sync */
    /* The profiler's */
    uint32_t writes, syncs;     /* trapped, and other exits of SHADOW on its account, */
    uint64_t writes_epoch;      /* in this interval */
    uint32_t flood;             /* trapped writes since SHADOW last walked through a node of it */
    uint64_t promoted, demoted; /* when last, in clock_of(); 0: never */
    uint32_t unchanged, wanted_unchanged;
    uint32_t
        changing; /* looks in a row that found a change: the next one waits so many intervals */
    uint64_t next_look; /* epoch */
    uint64_t content;   /* hash of the content, A and D left out, at the last interval's end */
    uint64_t marks;     /* the sum of A and D bits then: less of them is a change too */
};

struct node {
    uint32_t table; /* CPT_NONE: of a split node */
    uint32_t next;  /* of the table's nodes, or of the free ones; of a split node: whose entry it
                       serves */
    uint32_t refs;  /* links, roots, or the one entry that a split node serves */
    uint8_t level;
    uint8_t used;
    uint16_t parent_slot; /* of a split node */
    uint64_t epoch;       /* interval in which it was made, or reached anew */
    /* SHADOW: the frames that its writable leaves map lie within [low, high]. */
    uint64_t low, high;
};

struct link {
    uint32_t node; /* whose entry it is */
    uint32_t next;
    uint16_t slot;
};

struct root {
    uint64_t gfn; /* CPT_FREE_GFN: not in use */
    uint32_t hash_next;
    enum cpt_state state;
    uint32_t node[CPT_FORMATS];       /* CPT_NONE: not made */
    uint64_t node_epoch[CPT_FORMATS]; /* interval in which it was last walked by */
    uint64_t used;                    /* interval of the last load */
    uint64_t age;
    uint64_t ran, loads; /* recent: they fade at each interval's end; these too: */
    uint64_t misses, updates, exits;
    uint64_t walk_ticks;             /* between two misses, of the recent past; 0: nobody counts */
    uint64_t state_since;            /* clock_of() */
    uint64_t asked_ran, asked_loads; /* when the policy was asked last */
    uint32_t cpus;                   /* processors that run it */
    uint8_t busy;                    /* its node is being made: not to be given up meanwhile */
    uint64_t blocker; /* gfn of the nested-handled table that made it leave SHADOW; CPT_FREE_GFN */
    uint32_t backoff;
};

#define CPT_FREE_GFN ~0ull
#define CPT_ROOTS    512u
#define CPT_HASH     4096u /* buckets for tables, and as many for roots */

struct cpt {
    struct cpt_head head; /* first: cpt_head() */
    struct cpt_host host;
    struct cpt_memory memory;
    struct cpt_ram ram;
    struct cpt_settings settings;
    struct trace *trace;
    struct cpt_stats stats;

    uint64_t node_window, alias_bit, trap_window, hole; /* guest-physical */
    uint64_t reserved;                                  /* bits 51:MAXPHYADDR */
    uint64_t high_trap; /* SHADOW: what an entry that leads nowhere has set */

    uint32_t nodes_total; /* nodes of COMPOUND come first */
    uint32_t link_count, table_count;
    struct node *node;
    struct link *link;
    struct table *table;
    struct root *root;
    uint32_t roots_used; /* records above have never been used */
    struct cpt_cpu *cpu[CPT_CPUS_MAX];
    uint32_t cpus;
    uint32_t *table_hash, *root_hash;
    uint32_t free_node[CPT_FORMATS], free_link, free_table;
    uint32_t next_nested; /* in the ring of nested-handled tables: the one to look at next */
    uint32_t unsync_tables;
    uint32_t ask_writes; /* trapped writes in an interval before the policy need be asked */
    uint32_t limbo;      /* nodes that processors may still have cached pointers to */
    uint32_t used_nodes[CPT_FORMATS];
    uint32_t shadow_end;  /* nodes from here on have never been used */
    uint32_t risen_roots; /* not NESTED */
    uint32_t used_tables[HANDLINGS];

    uint64_t *is_protected; /* a bit a frame of RAM: shadow-handled */
    uint16_t *writer; /* SHADOW: of a frame, the node whose leaf mapped it writable last, by its
                         index among SHADOW's; a hint */
    uint16_t
        *large_leaves; /* SHADOW: of 2 MiB of frames, writable leaves above level 1 that map them */
    uint8_t *writable_count; /* SHADOW: a frame's writable level-1 leaves; 255 sticks */

    struct table *found; /* by the last violation of a protected page; never one that is free */
    uint64_t frames;
    bool owes_invalidation;
    uint64_t epoch;     /* intervals so far */
    uint64_t interval;  /* of now: quiet ones are longer */
    uint64_t events;    /* in this interval: what makes it not quiet */
    uint64_t next_turn; /* interval: see has_room */
    uint32_t sweep;     /* where the search for a table to evict goes on */
    uint64_t random;
};

/* Of an address that was put together of indices: bits above the highest index repeat it. */
static inline uint64_t canonical(const struct cpt *c, uint64_t at)
{
    unsigned shift = 64 - (PAGE_SHIFT + 9 * c->settings.levels);

    return (uint64_t)((int64_t)(at << shift) >> shift);
}

/* --- RAM -------------------------------------------------------------------------------------- */

/* The index of a frame of RAM, or CPT_FREE_GFN. */
static inline uint64_t frame_of(const struct cpt *c, uint64_t gfn)
{
    uint64_t low = c->ram.low >> PAGE_SHIFT;
    uint64_t above = gfn - (CPT_HIGH_RAM >> PAGE_SHIFT);

    if (gfn < low)
        return gfn;
    return above < c->ram.high >> PAGE_SHIFT ? low + above : CPT_FREE_GFN;
}

/* The guest's table at `gfn`, or NULL where there is no RAM. */
static inline uint64_t *guest_table(const struct cpt *c, uint64_t gfn)
{
    uint64_t frame = frame_of(c, gfn);

    return frame == CPT_FREE_GFN ? NULL : (uint64_t *)(void *)(c->ram.host + (frame << PAGE_SHIFT));
}

static inline uint64_t load_entry(const uint64_t *entry)
{
    return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static inline bool swap_entry(uint64_t *entry, uint64_t old, uint64_t set)
{
    return __atomic_compare_exchange_n(entry, &old, set, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline bool frame_protected(const struct cpt *c, uint64_t frame)
{
    return c->is_protected[frame / 64] >> frame % 64 & 1;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static inline enum cpt_format node_format(const struct cpt *c, uint32_t n)
{
    return n < c->memory.node_count[CPT_FORMAT_COMPOUND] ? CPT_FORMAT_COMPOUND : CPT_FORMAT_SHADOW;
}

static inline uint64_t *node_page(const struct cpt *c, uint32_t n)
{
    uint32_t first = c->memory.node_count[CPT_FORMAT_COMPOUND];

    return n < first ? c->memory.nodes[CPT_FORMAT_COMPOUND] + (uint64_t)n * PT_ENTRIES
                     : c->memory.nodes[CPT_FORMAT_SHADOW] + (uint64_t)(n - first) * PT_ENTRIES;
}

/* What an entry or CR3 that leads to the node holds: guest-physical in COMPOUND, else
 * host-physical. */
static inline uint64_t node_address(const struct cpt *c, uint32_t n)
{
    uint32_t first = c->memory.node_count[CPT_FORMAT_COMPOUND];

    return n < first
               ? c->node_window + c->memory.node_offset + ((uint64_t)n << PAGE_SHIFT)
               : c->memory.node_base[CPT_FORMAT_SHADOW].v + ((uint64_t)(n - first) << PAGE_SHIFT);
}

static inline uint32_t node_at(const struct cpt *c, enum cpt_format format, uint64_t address)
{
    if (format == CPT_FORMAT_COMPOUND)
        return (uint32_t)((address - c->node_window - c->memory.node_offset) >> PAGE_SHIFT);
    return c->memory.node_count[CPT_FORMAT_COMPOUND] +
           (uint32_t)((address - c->memory.node_base[CPT_FORMAT_SHADOW].v) >> PAGE_SHIFT);
}

/* Time in intervals of the settings, from 1; the interval that is going on may be longer. */
static inline uint64_t clock_of(const struct cpt *c)
{
    return c->trace->time / c->settings.interval + 1;
}

/* Whether what leads to the table in nodes of this format leads to a node. */
static inline bool table_has_nodes_in(const struct table *t, enum cpt_format format)
{
    return t->handling == HANDLING_SHADOW ||
           (t->handling == HANDLING_UNSYNC && format == CPT_FORMAT_SHADOW);
}

/* node.c */
struct table *table_search(const struct cpt *c, uint64_t gfn);
/* The table at `gfn`, or NULL. A store to a table asks twice. */
static inline struct table *table_find(const struct cpt *c, uint64_t gfn)
{
    struct table *found = c->found;

    return found && found->gfn == gfn ? found : table_search(c, gfn);
}
/* The table at `gfn`, made if need be (shadow-handled or not as the policy begins). NULL: no room.
 */
struct table *table_get(struct cpt *c, uint64_t gfn, unsigned level);
/* Forget the table when nothing leads to it and nothing stands for it. */
void table_drop_if_unused(struct cpt *c, struct table *t);
uint32_t table_node(const struct cpt *c, const struct table *t, unsigned level,
                    enum cpt_format format);
static inline uint32_t table_index(const struct cpt *c, const struct table *t)
{
    return (uint32_t)(t - c->table);
}
bool link_add(struct cpt *c, struct table *t, uint32_t n, unsigned slot);
void link_remove(struct cpt *c, struct table *t, uint32_t n, unsigned slot);
/*
 * The node of `t` for `level` in `format`, made with all entries of the guest's table if it is not
 * there: the table is write-protected first. CPT_NONE when there is no memory; the table may then
 * be nested-handled.
 */
uint32_t node_get(struct cpt *c, struct table *t, unsigned level, enum cpt_format format);
/* A node for the parts of the large leaf at `slot` of `parent`, whose level is one lower. */
uint32_t node_get_split(struct cpt *c, uint32_t parent, unsigned slot);
void table_free_nodes(struct cpt *c, struct table *t);
/* Those of one format. */
void table_free_nodes_in(struct cpt *c, struct table *t, enum cpt_format format);
/* Into the ring, where it is the next to be looked at; and out of it. */
void nested_ring_add(struct cpt *c, struct table *t);
void nested_ring_remove(struct cpt *c, struct table *t);
/* Take the guest's right to write the table away, everywhere, or give it back. False without
 * memory. The caller owes an invalidation before anybody reads the table. */
bool table_protect(struct cpt *c, const struct table *t);
void table_unprotect(struct cpt *c, const struct table *t);
/* One reference less; the last one frees the node, and nodes that only it led to. */
void node_put(struct cpt *c, uint32_t n);
/* Do what is owed to processors' caches; after that, nodes given up can be used again. */
void settle_now(struct cpt *c);
static inline void settle(struct cpt *c)
{
    if (c->owes_invalidation)
        settle_now(c);
}

/* entry.c */
enum sync_status {
    SYNC_OK,
    SYNC_FULL,    /* no memory for a node */
    SYNC_BLOCKED, /* SHADOW: leads to a nested-handled table */
};
/* Fill a fresh node from its guest table. */
void node_fill(struct cpt *c, uint32_t n, const uint64_t *guest);
/* Bring one entry into line with the guest's. `follow`: an access is on its way through it, so that
 * a table that has no node gets one. */
enum sync_status entry_sync(struct cpt *c, uint32_t n, unsigned slot, bool follow);
/* SHADOW, level 1: bring all entries into line. */
void node_resync(struct cpt *c, uint32_t n, const uint64_t *guest);
/* SHADOW, level 1: what is not present becomes a trap. */
void node_trap_empty(struct cpt *c, uint32_t n);
/* Replace an entry, with all that hangs on the old one. */
void entry_set(struct cpt *c, uint32_t n, unsigned slot, uint64_t value);
/*
 * The same for an entry of a node that is given up. The word stays as it is: until the invalidation
 * that the caller owes, others may walk it, and would take an empty entry for the guest's own, a
 * page fault that no exit tells of.
 */
void entry_give_up(struct cpt *c, uint32_t n, unsigned slot);
/* The value of an entry that leads to `t` as it is handled now. The node must be there. */
uint64_t entry_for_table(const struct cpt *c, uint32_t n, uint64_t guest, const struct table *t);
/* The table that an entry of node `n` with ENTRY_NODE or ENTRY_SWITCH leads to. */
struct table *entry_table(const struct cpt *c, uint32_t n, uint64_t entry);
/* Make it a trap. */
void entry_trap(struct cpt *c, uint32_t n, unsigned slot);
/* An entry that leads to `t`, whose handling has changed: lead there as it is now. Links stay. */
void entry_relink(struct cpt *c, uint32_t n, unsigned slot, const struct table *t);
/* SHADOW: let a clean leaf write, until leaves_protect. */
void entry_open(struct cpt *c, uint32_t n, unsigned slot);
/* One entry of a split node: the part at guest-virtual `at` of the large leaf `guest` of
 * `guest_level`. */
enum sync_status entry_sync_part(struct cpt *c, uint32_t n, unsigned slot, uint64_t guest,
                                 unsigned guest_level, uint64_t at);
bool entry_is_reserved(const struct cpt *c, uint64_t entry, unsigned level);
/* Clear W in all leaves of SHADOW that map the frame. */
void leaves_protect(struct cpt *c, uint64_t frame);

/* region.c */
/* The region that `t` translates when it is walked at `level`, by the first links that lead up to a
 * root. */
void region_find(const struct cpt *c, const struct table *t, unsigned level,
                 struct trace_region *region);
/* Keep an event of the table for the trace. */
void trace_table(struct cpt *c, enum trace_kind kind, const struct table *t, unsigned level,
                 uint32_t detail);
/* The event of node `n` of `t`, if it was made after `filled` had been so many: when it is linked,
 * because only then it is known where. */
static inline void trace_if_filled(struct cpt *c, uint64_t filled, const struct table *t,
                                   uint32_t n)
{
    unsigned level = c->node[n].level;

    if (c->stats.filled != filled)
        trace_table(c, TRACE_FILL, t, level, level | (unsigned)node_format(c, n) << 4);
}

/* handling.c */
/* Hand the table over to nested handling. `why`: TRACE_DEMOTE or TRACE_EVICT. */
void table_demote(struct cpt *c, struct table *t, enum trace_kind why);
/* Hand it back to shadow handling, with nodes for all that lead to it. False without memory. */
bool table_promote(struct cpt *c, struct table *t);
/* The nodes go, the handling stays: they are made anew at the next access. */
void table_zap(struct cpt *c, struct table *t);
/* Free a node of `format`: the table whose nodes were made longest ago becomes nested-handled, or a
 * root that no processor runs falls to NESTED. False when there is nothing to give up. */
bool evict(struct cpt *c, enum cpt_format format);

/* unsync.c */
/* Whether the table may go out of sync: nodes of SHADOW stand for it, all at level 1. */
bool table_can_unsync(const struct cpt *c, const struct table *t);
/* Let the guest write it. The caller settles. */
void table_unsync(struct cpt *c, struct table *t);
/* Write-protect it again and bring its nodes into line. Without memory it becomes nested-handled.
 */
void table_resync(struct cpt *c, struct table *t);
void resync_all(struct cpt *c);
/* Those that nothing has happened to in the interval that ended. */
void resync_idle(struct cpt *c);
/* It is not out of sync any more. */
void unsync_list_remove(struct cpt *c, struct table *t);
/* Bring the entry for `at` into line where it is one of a table out of sync, and with `around`
 * those about it that the guest has used. */
void unsync_sync_entry(struct cpt *c, const struct cpt_cpu *cpu, gva_t at, bool around);

/* fault.c */
/* SHADOW had an exit for an entry of the table: if there were too many, the policy gives it up. */
void table_count_sync(struct cpt *c, const struct cpt_cpu *cpu, struct table *t);
/* The node and slot in SHADOW at which the walk for `at` ends. */
uint32_t shadow_end(const struct cpt *c, uint32_t n, gva_t at, unsigned *slot);

/* profile.c */
/* Let the table's counts be those of this interval. */
static inline void table_begin_count(struct cpt *c, struct table *t)
{
    c->events++;
    if (t->writes_epoch == c->epoch)
        return;
    t->writes_epoch = c->epoch;
    t->writes = t->syncs = 0;
}

/* root.c */
/* Change how the root is walked; processors that run it notice in cpt_refresh. */
void root_set_state(struct cpt *c, struct root *r, enum cpt_state state);
/* The root's node, made if need be; CPT_NONE when it cannot be had. */
uint32_t root_node(struct cpt *c, struct root *r, enum cpt_format format);
void root_drop_nodes(struct cpt *c, struct root *r, enum cpt_format format);
bool root_runs(const struct cpt *c, const struct root *r);
struct root *root_find(const struct cpt *c, uint64_t gfn);
bool root_is_blocked(const struct cpt *c, const struct root *r);
/* `ran` ticks with `loads` CR3 loads in the recent past: which state should it have? */
void root_ask_policy(struct cpt *c, struct root *r, uint64_t ran, uint64_t loads);
/* Something happened that is worth a look soon, if the interval that is going on is a long one. */
void look_soon(struct cpt *c);
bool evict_root(struct cpt *c, enum cpt_format format);

#endif
