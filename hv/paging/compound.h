/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The compound page table of one VM.
 *
 * Each guest root (CR3 value) is walked in one of three ways:
 *
 *   NESTED    by the guest's own tables, through EPT
 *   COMPOUND  by nodes, our shadows of guest tables, through EPT; where a region changes often, an
 *             entry of a node leads to the guest's own table and the walk goes on there
 *   SHADOW    by nodes of a second format that hold host-physical addresses, without EPT
 *
 * A guest table is shadow-handled (write-protected, nodes stand for it) or nested-handled (the
 * guest writes it freely), for all roots together; a leaf table that SHADOW walks can also be out
 * of sync (the guest writes it freely, and its nodes follow when the guest invalidates). A profiler
 * counts what happens, and a policy (policy.h) moves tables and roots between these while the guest
 * runs.
 *
 * In guest-physical space, with B = min(MAXPHYADDR, 48) bits, lie beside the guest's RAM:
 *
 *   [0, 2^(B-2))          RAM and what the guest takes for devices
 *   2^(B-2) ...           the node window: the nodes of COMPOUND, read-only
 *   2^(B-1) + gPA         the read-only alias of gPA
 *   2^(B-1) + 2^(B-2) ... the trap window, never mapped: 512 pages for each node, one an entry
 *
 * Nothing here is machine code, and nothing is global: the caller gives memory and a few functions,
 * so that the hypervisor, the tests and the simulator compile the same files. All calls for a VM
 * are made under one lock of the caller's; the VM's processors may run meanwhile, walk nodes and
 * write whatever is not write-protected.
 */
#ifndef HV_PAGING_COMPOUND_H
#define HV_PAGING_COMPOUND_H

#include "hv/paging/policy.h"
#include "hv/paging/trace.h"
#include "hv/paging/walk.h"
#include "hv/types.h"

/* The guest's RAM: guest-physical [0, low) and [4 GiB, 4 GiB + high), in one host block, bytes. */
struct cpt_ram {
    uint8_t *host;
    hpa_t base;
    uint64_t low, high;
};

#define CPT_HIGH_RAM GIB(4)

/* What the compound table needs of EPT and of the processors. */
struct cpt_host {
    void *context;
    /* Take the right to write one page of RAM away in EPT, or give it back. Does not invalidate.
     * False when there is no memory to split a larger page. */
    bool (*protect)(void *context, gpa_t page, bool protect);
    /* On all processors that run the VM, forget every translation and paging-structure entry that
     * is cached for it, with EPT and without (SDM 3C 28.4.3). Returns when that is done. */
    void (*invalidate)(void *context);
    /* References that one access to `at` takes in EPT. */
    unsigned (*ept_references)(void *context, gpa_t at);
    /* Ticks, for the statistics; may be NULL. */
    uint64_t (*now)(void *context);
};

enum cpt_format { CPT_FORMAT_COMPOUND, CPT_FORMAT_SHADOW, CPT_FORMATS };

/* Memory for the table. Nothing else is allocated. */
struct cpt_memory {
    /* Nodes of each format: pages, where they lie for the host's processor, and how many. Those of
     * CPT_FORMAT_COMPOUND are what the node window shows, from node_offset on. */
    uint64_t *nodes[CPT_FORMATS];
    hpa_t node_base[CPT_FORMATS];
    uint32_t node_count[CPT_FORMATS];
    uint64_t node_offset; /* bytes from the node window's start */
    void *book;           /* cpt_book_bytes() of zeroed memory */
};

struct cpt_settings {
    unsigned levels;        /* of the guest's tables in long mode: 4 or 5 */
    unsigned physical_bits; /* MAXPHYADDR, of guest and host */
    unsigned max_leaf;      /* 3 when the guest has 1-GiB pages, else 2 */
    bool no_shadow;         /* the host's processor cannot do without EPT as SHADOW needs it */
    struct policy_settings policy;
    uint64_t interval;     /* ticks */
    uint64_t interval_max; /* ticks: what quiet intervals grow to */
    uint32_t stress;       /* debug: a forced change at random every so many events; 0: none */
    uint64_t seed;         /* of these */
};

#define CPT_RECENT_ROOTS 8u
#define CPT_ASK_LOADS    64u /* CR3 loads of a root, between two questions to the policy */
#define CPT_NONE         0xffffffffu

/* A root that a processor loaded lately, as it was walked at `generation`. What it counts goes to
 * the root when the profiler looks. */
struct cpt_recent {
    uint64_t cr3, generation, node_cr3;
    uint64_t ran; /* ticks */
    uint32_t loads;
    uint32_t root;
    enum cpt_state state;
    bool write_protect, pcid;
};

/* A virtual processor's part. */
struct cpt_cpu {
    uint64_t cr3;         /* as the guest has it */
    bool paging;          /* in long mode with paging on: only then is there a root */
    bool write_protect;   /* CR0.WP */
    bool pcid;            /* CR4.PCIDE */
    uint32_t root;        /* index, CPT_NONE without one */
    enum cpt_state state; /* how the processor walks now */
    uint64_t node_cr3;    /* what its CR3 must hold then */
    uint64_t since;       /* ticks: when the root began to run, or was last charged */
    uint64_t generation;  /* of the table that these follow */
    bool seen_protect;    /* write_protect that they follow */
    uint32_t running;     /* index in recent */
    /* TLB misses and stores to page tables so far, where the caller can count them: for the policy
     * shsp. */
    uint64_t misses, updates;
    uint64_t seen_misses, seen_updates;
    struct cpt_recent recent[CPT_RECENT_ROOTS];
};

/* What the hot paths below may look at; struct cpt begins with it. */
struct cpt_head {
    uint64_t generation; /* counts what may change how some root is walked */
    uint64_t changes;    /* promotions, demotions and changes of a root's state */
    uint64_t next_look;  /* ticks: when cpt_tick has something to do; may come nearer */
    uint32_t unsync;     /* tables out of sync */
};

struct cpt_stats {
    uint64_t table_writes;        /* trapped, whatever became of them */
    uint64_t emulated;            /* of these, entries brought up to date after the store */
    uint64_t syncs;               /* entries made at an access */
    uint64_t dirtied;             /* clean entries made dirty at a write */
    uint64_t filled;              /* nodes made */
    uint64_t promotions;          /* nested-handled tables that became shadow-handled */
    uint64_t demotions;           /* the other way */
    uint64_t promotion_ticks_max; /* that one promotion took */
    uint64_t evictions;           /* demotions for lack of memory */
    uint64_t unsyncs;             /* tables that went out of sync */
    uint64_t resyncs;             /* and came back */
    uint64_t invlpgs;             /* INVLPGs that exited for them */
    uint64_t prefetched;          /* entries made beside one that was synced */
    uint64_t floods;       /* tables whose nodes were dropped for being written, not walked */
    uint64_t root_changes; /* of state */
    uint64_t invalidations;
    uint64_t cr3_loads;      /* that exited */
    uint64_t changed_tables; /* nested-handled tables found changed at an interval's end: what
                                shadow handling would have trapped for */
    uint64_t intervals;
    uint64_t state_ticks[CPT_STATES]; /* time that processors spent in each state */
};

struct cpt_counts { /* of what is there now */
    uint32_t roots[CPT_STATES];
    uint32_t tables_shadow, tables_nested, tables_unsync;
    uint32_t nodes[CPT_FORMATS];
    uint64_t node_bytes;   /* of nodes in use, with their share of the book-keeping */
    uint64_t mapped_bytes; /* of guest memory, by leaves of nodes and tables below switch entries
                              left out */
};

struct cpt; /* internal.h */

static inline const struct cpt_head *cpt_head(const struct cpt *c)
{
    return (const struct cpt_head *)c;
}

/* Bytes of book-keeping for so many nodes in all and so much RAM. */
size_t cpt_book_bytes(uint32_t node_count, uint64_t ram_bytes);

/* Make the table in memory->book. Every root starts NESTED. NULL when the settings leave no room
 * for the windows: *reason is then a sentence for people. */
struct cpt *cpt_create(const struct cpt_host *host, const struct cpt_memory *memory,
                       const struct cpt_ram *ram, const struct cpt_settings *settings,
                       struct trace *trace, const char **reason);

/* Where the windows lie. */
gpa_t cpt_node_window(const struct cpt *c);
gpa_t cpt_alias(const struct cpt *c, gpa_t at);
uint64_t cpt_ram_limit(unsigned physical_bits);

/*
 * Go by another policy from now on: roots and tables are brought into a state that it could have
 * made itself, at once where it would leave them as they are, else as it moves them. Forgets and
 * invalidates what that takes. Not while a page is open (cpt_open). Processors that run roots take
 * their new state over by cpt_refresh.
 */
void cpt_set_policy(struct cpt *c, const struct policy_settings *policy);

/* --- processors and roots --------------------------------------------------------------------- */

/* A processor of the VM, before anything else is said of it. At most CPT_CPUS_MAX. */
#define CPT_CPUS_MAX 256u
void cpt_add_cpu(struct cpt *c, struct cpt_cpu *cpu);

/*
 * The guest loads CR3, or CR0, CR4 or EFER changed: `cpu`'s cr3, paging, write_protect and pcid are
 * as the guest has them now. Sets cpu->root, state and node_cr3. The caller gives the invalidation
 * that the guest's instruction asks for.
 */
void cpt_load_root(struct cpt *c, struct cpt_cpu *cpu, uint64_t now);

/* Where a root that was loaded lately is remembered, if it is. */
static inline struct cpt_recent *cpt_recent(struct cpt_cpu *cpu, uint64_t cr3)
{
    return &cpu->recent[(cr3 >> PAGE_SHIFT) % CPT_RECENT_ROOTS];
}

/*
 * The same for a MOV to CR3 alone, when the root was loaded lately and nothing has changed since:
 * most loads of most guests. False: nothing is done, call cpt_load_root.
 */
static inline bool cpt_load_recent(const struct cpt *c, struct cpt_cpu *cpu, uint64_t cr3,
                                   uint64_t now)
{
    struct cpt_recent *r = cpt_recent(cpu, cr3);

    if (r->cr3 != cr3 || r->generation != cpt_head(c)->generation || r->loads >= CPT_ASK_LOADS ||
        r->write_protect != cpu->write_protect || r->pcid != cpu->pcid)
        return false;
    cpu->recent[cpu->running].ran += now - cpu->since;
    cpu->since = now;
    cpu->running = (uint32_t)(r - cpu->recent);
    cpu->cr3 = cr3;
    cpu->root = r->root;
    cpu->state = r->state;
    cpu->node_cr3 = r->node_cr3;
    cpu->generation = r->generation;
    r->loads++;
    return true;
}

/* Have `cpu` follow what became of its root meanwhile (another processor or an interval may have
 * changed it). True if state or node_cr3 is another now. */
bool cpt_refresh(struct cpt *c, struct cpt_cpu *cpu, uint64_t now);

/* Bring what is counted of time and CR3 loads (cpt_stats) up to `now` of `cpu`, and of the others
 * to where they were last. NULL: no processor runs. */
void cpt_collect(struct cpt *c, const struct cpt_cpu *cpu, uint64_t now);

/* An interval may have ended (head's next_look): count, and let the policy decide. */
void cpt_tick(struct cpt *c, struct cpt_cpu *cpu, uint64_t now);

/* Debug: perhaps a forced change, when settings.stress is not 0. Call it at each exit. */
void cpt_stress(struct cpt *c);

/* The NESTED roots that MOV to CR3 need not exit for: guest CR3 values without PCID, at most
 * `room`. */
unsigned cpt_hot_nested_roots(const struct cpt *c, uint64_t *cr3, unsigned room);

/* Whether some root is not NESTED, so that CR3 loads must exit. */
bool cpt_has_risen_roots(const struct cpt *c);

/*
 * What a processor in SHADOW must tell while tables are out of sync (cpt_head's unsync > 0), before
 * it goes on: INVLPG of an address; and everything else that makes a processor forget translations
 * (INVPCID; MOV to CR4 that changes PGE, PCIDE, PAE, PSE or SMEP; EFER.NXE), after which none is. A
 * MOV to CR3 is told by cpt_load_root. The caller gives the invalidation itself.
 */
void cpt_invlpg(struct cpt *c, const struct cpt_cpu *cpu, gva_t at);
void cpt_invalidated(struct cpt *c);

/* --- what exits ask --------------------------------------------------------------------------- */

enum cpt_result {
    CPT_RESUME,      /* the guest goes on, and tries again if it was in the middle of something */
    CPT_TABLE_WRITE, /* a store to a write-protected guest table: carry it out, and say cpt_written;
                        or open the page (cpt_open), step, and close it */
    CPT_NOT_RAM,     /* an access to where there is no RAM */
    CPT_FAULT,       /* the guest's own page fault */
};

struct cpt_access {
    gva_t gva;
    gpa_t gpa;           /* EPT violations: where; results: what a store is to reach */
    unsigned access;     /* WALK_WRITE or WALK_FETCH, and WALK_USER */
    bool final;          /* EPT violations: the access itself, not the walk to it */
    uint32_t error_code; /* CPT_FAULT: of the fault; on the way in, that of the #PF in SHADOW */
};

/* An EPT violation in NESTED or COMPOUND. */
enum cpt_result cpt_ept_violation(struct cpt *c, struct cpt_cpu *cpu, struct cpt_access *a);

/* A page fault with P = 1 in SHADOW, known by its address and error code; `access` may hold
 * WALK_IMPLICIT, and WALK_FETCH for what the error code does not tell (without NXE and SMEP).
 * `registers` and `memory` are for a walk of the guest's own tables. */
enum cpt_result cpt_page_fault(struct cpt *c, struct cpt_cpu *cpu, struct cpt_access *a,
                               const struct walk_registers *registers,
                               const struct walk_memory *memory);

/* The host's address of the byte at `at`, by the guest's own tables without regard to rights; NULL
 * where there is no RAM. */
const void *cpt_guest_byte(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at);

/* `bytes` at `at` of RAM, within one page, were written by other than a guest's processor: nodes of
 * the page, if it is a table, are brought up to date. */
void cpt_written(struct cpt *c, gpa_t at, unsigned bytes);

/* Give a table up to nested handling, for a store to it that cannot be carried out otherwise. */
void cpt_give_up(struct cpt *c, gpa_t at);

/* Let the guest write a protected page for one instruction, and close it again: whatever was
 * changed in it then, by whatever processor, is brought up to date. `gva`: by which the store
 * reaches it. */
void cpt_open(struct cpt *c, struct cpt_cpu *cpu, gpa_t at, gva_t gva);
void cpt_close(struct cpt *c, gpa_t at);

/* --- what people see -------------------------------------------------------------------------- */

struct cpt_audit {
    unsigned references; /* that a TLB miss at the address takes now, no walk caches */
    unsigned switched;   /* the level of the first guest table that is walked itself; 0: none */
};

/* Walk for `at` as the processor would that is in `cpu`'s state; entries that are still traps count
 * as what a sync will make of them. False when the guest maps nothing there. */
bool cpt_audit(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at, struct cpt_audit *audit);

const struct cpt_stats *cpt_stats(const struct cpt *c);
struct cpt_counts cpt_count(const struct cpt *c);

/* The regions of `cpu`'s root as text lines, one a run of neighbours that are handled alike. */
void cpt_print_map(const struct cpt *c, const struct cpt_cpu *cpu,
                   void (*line)(void *context, const char *text), void *context);

/* Check every invariant (tests and debugging). NULL, or what is wrong. */
const char *cpt_check(const struct cpt *c);

/* Nodes that are neither in use nor free nor on their way to be, or more than one of these: 0
 * unless we are wrong. Takes as many steps as there are nodes. */
uint32_t cpt_lost_nodes(const struct cpt *c);

#endif
