/* SPDX-License-Identifier: BSD-2-Clause */
/* See policy.h: the three policies, each a row of functions. */
#include "hv/paging/policy.h"

const struct policy_settings policy_default = {
    .kind = POLICY_COST,
    .demote_writes = 2,
    .promote_unchanged = 1,
    .quick_return = 128,
    .root_age = 2,
    .cost_exit = 1500,
    .cost_reference = 16,
    .walk_ticks = 100,
    .walks_per_load = 32,
    .unsync_writes = 3,
    .flood_writes = 3,
    .prefetch = 8,
};

struct policy {
    const char *name;
    bool (*starts_shadow)(const struct policy_settings *s, unsigned level);
    enum policy_answer (*at_write)(const struct policy_settings *s,
                                   const struct policy_table *table);
    bool (*promotes)(const struct policy_settings *s, const struct policy_table *table);
    bool (*promotes_for_use)(const struct policy_settings *s, const struct policy_table *table);
    enum cpt_state (*root_state)(const struct policy_settings *s, const struct policy_root *root);
    unsigned memory; /* policy_memory */
};

/* --- static ----------------------------------------------------------------------------------- */

static bool static_starts_shadow(const struct policy_settings *s, unsigned level)
{
    return level > s->switch_level;
}

/* As KVM does: leaf tables go out of sync, others lose their nodes when they are written and not
 * walked. */
static enum policy_answer shadow_at_write(const struct policy_settings *s,
                                          const struct policy_table *table)
{
    if (table->is_unsync)
        return POLICY_KEEP;
    if (table->can_unsync && s->unsync_writes)
        return table->writes >= s->unsync_writes ? POLICY_UNSYNC : POLICY_KEEP;
    /* A store by way of the table that it changes walks it first: one alone is no flood. */
    bool flood = s->flood_writes && table->flood > 1 && table->flood >= s->flood_writes &&
                 table->walker == CPT_SHADOW;
    return flood ? POLICY_ZAP : POLICY_KEEP;
}

static enum policy_answer static_at_write(const struct policy_settings *s,
                                          const struct policy_table *table)
{
    return s->pinned_shadow ? shadow_at_write(s, table) : POLICY_KEEP;
}

static bool never(const struct policy_settings *s, const struct policy_table *table)
{
    (void)s;
    (void)table;
    return false;
}

#define SWITCH_AT_ROOT 4u /* switch_level: above the highest table that could be shadow-handled */

static enum cpt_state static_root_state(const struct policy_settings *s,
                                        const struct policy_root *root)
{
    (void)root;
    if (s->pinned_shadow)
        return CPT_SHADOW;
    return s->switch_level >= SWITCH_AT_ROOT ? CPT_NESTED : CPT_COMPOUND;
}

/* --- threshold: the paper's ------------------------------------------------------------------- */

static bool always_starts_shadow(const struct policy_settings *s, unsigned level)
{
    (void)s;
    (void)level;
    return true;
}

static enum policy_answer threshold_at_write(const struct policy_settings *s,
                                             const struct policy_table *table)
{
    return table->writes >= s->demote_writes ? POLICY_DEMOTE : POLICY_KEEP;
}

static bool threshold_promotes(const struct policy_settings *s, const struct policy_table *table)
{
    (void)s;
    return table->unchanged >= table->wanted_unchanged;
}

/* A root that is loaded often must not exit often: so many ticks of its own a load. */
#define THRESHOLD_EXITS_PER_LOAD 10u

static enum cpt_state threshold_root_state(const struct policy_settings *s,
                                           const struct policy_root *root)
{
    uint64_t pays = (uint64_t)THRESHOLD_EXITS_PER_LOAD * s->cost_exit;

    if (root->loads > 0 && root->ran / root->loads < pays)
        return CPT_NESTED;
    if (root->state == CPT_NESTED)
        return root->age >= (uint64_t)s->root_age * root->backoff ? CPT_COMPOUND : CPT_NESTED;
    if (root->state == CPT_COMPOUND)
        return !root->blocked && root->state_age >= root->backoff ? CPT_SHADOW : CPT_COMPOUND;
    return CPT_SHADOW;
}

/* --- cost ------------------------------------------------------------------------------------- */

/* Cycles that so many walks cost less when each takes `references` less. */
static uint64_t walks_save(const struct policy_settings *s, uint64_t walks, unsigned references)
{
    return walks * references * s->cost_reference;
}

/*
 * TLB misses of `ticks` of guest time with `loads` CR3 loads: nothing counts them where there is no
 * PMU. A load empties the TLB, and what runs after it fills it again, as far as it gets.
 */
#define TICKS_PER_REFILL 12u

static uint64_t walks_in(const struct policy_settings *s, uint64_t ticks, uint64_t loads)
{
    uint64_t refill = loads ? ticks / loads / TICKS_PER_REFILL : 0;

    return ticks / s->walk_ticks +
           loads * (refill < s->walks_per_load ? refill : s->walks_per_load);
}

/*
 * Where the root runs in SHADOW, demoting one table throws all its regions back to walks through
 * EPT until that table is promoted again: at least `wanted_unchanged` intervals and the one that is
 * going on. Exits are paid for until they have cost a PATIENCE-th of that: stray stores stay cheap,
 * and what turns out a burst has not cost much before it is let through. But never more than SHADOW
 * saves in an interval: what costs that every time had better be demoted, however long it is for.
 */
#define SHADOW_LOSS_REFERENCES 14u
#define PATIENCE               16u

static uint64_t shadow_saves(const struct policy_settings *s, const struct policy_table *table,
                             uint64_t ticks)
{
    uint64_t walks = table->walk_ticks ? ticks / table->walk_ticks : walks_in(s, ticks, 0);

    return walks_save(s, walks, SHADOW_LOSS_REFERENCES);
}

static enum policy_answer cost_at_write(const struct policy_settings *s,
                                        const struct policy_table *table)
{
    uint32_t exits = table->writes + table->syncs;
    uint64_t spent = (uint64_t)exits * s->cost_exit;

    if (table->walker != CPT_SHADOW)
        return threshold_at_write(s, table);
    uint64_t away = (table->wanted_unchanged + 1ull) * table->interval;
    uint64_t patience = shadow_saves(s, table, away) / PATIENCE,
             most = shadow_saves(s, table, table->interval);
    if (exits >= s->demote_writes && spent >= (patience < most ? patience : most))
        return POLICY_DEMOTE;
    return table->can_unsync && s->unsync_writes && table->writes >= s->unsync_writes
               ? POLICY_UNSYNC
               : POLICY_KEEP;
}

/* Not sooner than the profiler might have, so that what goes back and forth pays less and less
 * often; and not what it found changed when it looked last. */
static bool cost_promotes_for_use(const struct policy_settings *s, const struct policy_table *table)
{
    (void)s;
    return table->unchanged > 0 && table->since_demotion > table->wanted_unchanged;
}

static enum cpt_state cost_root_state(const struct policy_settings *s,
                                      const struct policy_root *root)
{
    uint64_t loads = root->loads * s->cost_exit;
    uint64_t walks = root->misses ? root->misses : walks_in(s, root->ran, root->loads);
    uint64_t shadow = walks_save(s, walks, root->saved_shadow);
    uint64_t compound = walks_save(s, walks, root->saved_compound);
    bool shadow_possible =
        !root->blocked && (root->state == CPT_SHADOW || root->state_age >= root->backoff);
    uint64_t saves = shadow_possible ? shadow : compound;

    /* Rise only for a clear gain; fall only when it has gone: between the two, stay. */
    if (root->state == CPT_NESTED) {
        if (root->age < (uint64_t)s->root_age * root->backoff || saves < loads + loads / 4 ||
            saves == 0)
            return CPT_NESTED;
        return shadow_possible ? CPT_SHADOW : CPT_COMPOUND;
    }
    if (saves < loads)
        return CPT_NESTED;
    return shadow_possible && shadow > 0 ? CPT_SHADOW : CPT_COMPOUND;
}

/* --- shsp: whole address spaces --------------------------------------------------------------- */

/* Counted misses and updates where there are counters; else misses are estimated, and updates show
 * in SHADOW only. */
static enum cpt_state shsp_root_state(const struct policy_settings *s,
                                      const struct policy_root *root)
{
    uint64_t misses = root->misses ? root->misses : walks_in(s, root->ran, root->loads);
    uint64_t saves = walks_save(s, misses, root->saved_shadow);

    if (root->state == CPT_NESTED) {
        uint64_t pays = (root->updates + root->loads) * s->cost_exit;
        bool old = root->age >= (uint64_t)s->root_age * root->backoff;
        return old && saves > pays + pays / 4 ? CPT_SHADOW : CPT_NESTED;
    }
    return (root->exits + root->loads) * s->cost_exit > saves ? CPT_NESTED : CPT_SHADOW;
}

/* --- the table -------------------------------------------------------------------------------- */

#define SHORT_MEMORY 1u /* policy_memory: half goes with each interval, */
#define LONG_MEMORY  4u /* or a 16th: a whole address space is not thrown over for one burst */

static const struct policy policies[POLICY_KINDS] = {
    [POLICY_STATIC] = {"static", static_starts_shadow, static_at_write, never, never,
                       static_root_state, SHORT_MEMORY},
    [POLICY_THRESHOLD] = {"threshold", always_starts_shadow, threshold_at_write, threshold_promotes,
                          never, threshold_root_state, SHORT_MEMORY},
    [POLICY_SHSP] = {"shsp", always_starts_shadow, shadow_at_write, never, never, shsp_root_state,
                     LONG_MEMORY},
    [POLICY_COST] = {"cost", always_starts_shadow, cost_at_write, threshold_promotes,
                     cost_promotes_for_use, cost_root_state, SHORT_MEMORY},
};

bool policy_starts_shadow(const struct policy_settings *s, unsigned level)
{
    return policies[s->kind].starts_shadow(s, level);
}

uint32_t policy_first_write(const struct policy_settings *s)
{
    uint32_t first = s->demote_writes;

    if (s->unsync_writes && s->unsync_writes < first)
        first = s->unsync_writes;
    return first;
}

enum policy_answer policy_at_write(const struct policy_settings *s,
                                   const struct policy_table *table)
{
    return policies[s->kind].at_write(s, table);
}

unsigned policy_memory(const struct policy_settings *s)
{
    return policies[s->kind].memory;
}

bool policy_keeps_handling(const struct policy_settings *s)
{
    return policies[s->kind].promotes == never;
}

bool policy_promotes_for_use(const struct policy_settings *s, const struct policy_table *table)
{
    return policies[s->kind].promotes_for_use(s, table);
}

bool policy_promotes(const struct policy_settings *s, const struct policy_table *table)
{
    return policies[s->kind].promotes(s, table);
}

enum cpt_state policy_root_state(const struct policy_settings *s, const struct policy_root *root)
{
    return policies[s->kind].root_state(s, root);
}

const char *policy_name(enum policy_kind kind)
{
    return policies[kind].name;
}

const char *cpt_state_name(enum cpt_state state)
{
    static const char *const names[CPT_STATES] = {"nested", "compound", "shadow"};

    return names[state];
}
