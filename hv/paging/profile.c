/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The profiler: at the end of each interval it looks at the nested-handled tables and at the roots
 * that ran, and asks the policy. Intervals in which nothing happens grow, so that a stable guest is
 * left alone.
 */
#include "hv/paging/internal.h"

#define IDLE_FORMAT_INTERVALS                                                                      \
    64u /* nodes that a root has not been walked by for so long are given up */
#define TABLES_PER_INTERVAL 64u /* looked at in one interval, each 512 entries, */
#define TABLES_WITHOUT_ROOM 4u  /* or so many while all nodes are in use */
#define YOUNG_ROOT          8u  /* intervals */
#define LOOK_RARELY                                                                                \
    16u /* intervals: the longest that a table that keeps changing is left alone                   \
         */
#define TURN_INTERVALS 16u /* between promotions that take another table's nodes */
#define HASH_FACTOR    0x9e3779b97f4a7c15ull

struct content {
    uint64_t hash;  /* of all but A and D; never 0 */
    uint64_t marks; /* the sum of all A and D bits, as they stand in their entries */
    bool in_use;    /* an entry has been walked */
};

static struct content content_of(const uint64_t *guest)
{
    uint64_t hash = 1, marks = 0, walked = 0;

    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        uint64_t e = load_entry(guest + i);
        hash = (hash ^ (e & ~(PTE_A | PTE_D))) * HASH_FACTOR;
        marks += e & (PTE_A | PTE_D);
        walked |= e & e << 5; /* bit 5, A, where bit 0, P, is set too */
    }
    return (struct content){hash | 1, marks, (walked & PTE_A) != 0};
}

static bool nodes_left(const struct cpt *c)
{
    return c->used_nodes[CPT_FORMAT_COMPOUND] < c->memory.node_count[CPT_FORMAT_COMPOUND] &&
           c->used_nodes[CPT_FORMAT_SHADOW] < c->memory.node_count[CPT_FORMAT_SHADOW];
}

/*
 * Where more tables are in use than there are nodes, each that is promoted takes another's, which
 * would be promoted next. Whose nodes are in place stays, but now and then one is let in, so that
 * what is no longer walked goes in time.
 */
static bool has_room(struct cpt *c)
{
    if (nodes_left(c))
        return true;
    if (c->epoch < c->next_turn)
        return false;
    c->next_turn = c->epoch + TURN_INTERVALS;
    return true;
}

static void look_at_table(struct cpt *c, struct table *t)
{
    struct content content = content_of(guest_table(c, t->gfn));
    bool in_use = content.in_use;

    /* Only the guest clears A and D. */
    if (content.hash == t->content && content.marks >= t->marks) {
        t->unchanged++;
        t->changing = content.in_use ? t->changing / 2 : t->changing + (t->changing < LOOK_RARELY);
    } else {
        if (t->content)
            c->stats.changed_tables++;
        t->unchanged = 0;
        t->changing += t->changing < LOOK_RARELY;
        c->events++;
    }
    t->next_look = c->epoch + t->changing;
    t->content = content.hash;
    t->marks = content.marks;
    t->idle = !in_use;
    if (!in_use)
        return;
    struct policy_table view = {
        .level = t->level,
        .unchanged = t->unchanged,
        .wanted_unchanged = t->wanted_unchanged,
        .interval = c->settings.interval,
    };
    /* A table that will be promoted is worth waiting for: the next interval must not be a long one.
     */
    if (t->unchanged < t->wanted_unchanged)
        c->events++;
    if (policy_promotes(&c->settings.policy, &view) && has_room(c))
        table_promote(c, t);
}

/* A long ring is gone through in turns. */
static void look_at_tables(struct cpt *c)
{
    uint32_t left = nodes_left(c) ? TABLES_PER_INTERVAL : TABLES_WITHOUT_ROOM;

    if (policy_keeps_handling(&c->settings.policy))
        return;
    if (left > c->used_tables[HANDLING_NESTED])
        left = c->used_tables[HANDLING_NESTED];
    for (; left > 0 && c->next_nested != CPT_NONE; left--) {
        struct table *t = &c->table[c->next_nested];
        c->next_nested = t->nested_next;
        if (c->epoch >= t->next_look)
            look_at_table(c, t);
    }
}

/* Rounded so that it comes to 0. */
static uint64_t fade(uint64_t count, unsigned memory)
{
    return count - ((count + (1ull << memory) - 1) >> memory);
}

static void look_at_roots(struct cpt *c)
{
    unsigned memory = policy_memory(&c->settings.policy);

    for (uint32_t i = 0; i < c->roots_used; i++) {
        struct root *r = &c->root[i];
        if (r->gfn == CPT_FREE_GFN)
            continue;
        if (r->ran > 0 && (root_runs(c, r) || r->used >= c->epoch - 1)) {
            r->age++;
            if (r->age < YOUNG_ROOT) /* it may rise soon */
                c->events++;
            r->walk_ticks = r->misses ? r->ran / r->misses + 1 : 0;
            root_ask_policy(c, r, r->ran, r->loads);
        }
        for (unsigned f = 0; f < CPT_FORMATS; f++) {
            bool walked =
                root_runs(c, r) && r->state == (f == CPT_FORMAT_SHADOW ? CPT_SHADOW : CPT_COMPOUND);
            if (walked)
                r->node_epoch[f] = c->epoch;
            else if (r->state != CPT_NESTED &&
                     c->epoch - r->node_epoch[f] > IDLE_FORMAT_INTERVALS && root_runs(c, r))
                root_drop_nodes(c, r, (enum cpt_format)f);
        }
        r->ran = fade(r->ran, memory);
        r->loads = fade(r->loads, memory);
        r->misses = fade(r->misses, memory);
        r->updates = fade(r->updates, memory);
        r->exits = fade(r->exits, memory);
        r->asked_ran = r->ran;
        r->asked_loads = r->loads;
    }
}

void look_soon(struct cpt *c)
{
    uint64_t soon = c->trace->time + c->settings.interval;

    c->interval = c->settings.interval;
    if (c->head.next_look > soon)
        c->head.next_look = soon;
}

void cpt_tick(struct cpt *c, struct cpt_cpu *cpu, uint64_t now)
{
    if (now < c->head.next_look)
        return;
    cpt_collect(c, cpu, now);
    c->epoch++;
    c->stats.intervals++;
    uint64_t events = c->events;
    c->events = 0;
    if (cpu->root != CPT_NONE)
        c->root[cpu->root].used = c->epoch;
    c->head.next_look = ~0ull;
    resync_idle(c);
    look_at_tables(c);
    look_at_roots(c);
    settle(c);
    if (events + c->events > 0)
        c->interval = c->settings.interval;
    else if (c->interval < c->settings.interval_max)
        c->interval = min_u64(c->interval * 2, c->settings.interval_max);
    c->head.next_look = now + c->interval;
}

/* --- forced changes --------------------------------------------------------------------------- */

static uint64_t random_next(struct cpt *c)
{
    c->random ^= c->random >> 12;
    c->random ^= c->random << 25;
    c->random ^= c->random >> 27;
    return c->random * 0x2545f4914f6cdd1dull;
}

static void force_handling(struct cpt *c, struct table *t)
{
    bool either = random_next(c) % 2 == 0;

    if (t->handling == HANDLING_NESTED)
        table_promote(c, t);
    else if (t->handling == HANDLING_UNSYNC && either)
        table_resync(c, t);
    else if (t->handling == HANDLING_SHADOW && either && table_can_unsync(c, t))
        table_unsync(c, t);
    else
        table_demote(c, t, TRACE_DEMOTE);
}

static void force_table(struct cpt *c)
{
    struct table *t = &c->table[random_next(c) % c->table_count];

    for (uint32_t i = 0; i < c->table_count && t->handling == HANDLING_FREE; i++)
        t = t + 1 < c->table + c->table_count ? t + 1 : c->table;
    if (t->handling != HANDLING_FREE)
        force_handling(c, t);
}

static void force_root(struct cpt *c)
{
    struct root *r = &c->root[random_next(c) % CPT_ROOTS];

    for (uint32_t i = 0; i < CPT_ROOTS && r->gfn == CPT_FREE_GFN; i++)
        r = r + 1 < c->root + CPT_ROOTS ? r + 1 : c->root;
    if (r->gfn != CPT_FREE_GFN)
        root_set_state(c, r, (enum cpt_state)(random_next(c) % CPT_STATES));
}

void cpt_stress(struct cpt *c)
{
    if (c->settings.stress == 0 || random_next(c) % c->settings.stress != 0)
        return;
    if (random_next(c) % 4 == 0)
        force_root(c);
    else
        force_table(c);
    settle(c);
}
