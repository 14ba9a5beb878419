/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The compound page table against the oracle (tests/oracle): a short run, and the programs that
 * once found a difference. `make oracle` runs long.
 */
#include "hv/paging/internal.h"
#include "tests/host/test.h"
#include "tests/oracle/oracle.h"

#define PROGRAMS 800u
#define STEPS    400u

static struct machine machine;

static bool run(uint64_t seed, unsigned steps)
{
    machine.chance = chance_of_seed(seed);
    return program_run(&machine, steps);
}

static void random_programs_find_no_difference(void)
{
    for (uint64_t seed = 1; seed <= PROGRAMS && !test_failed_now; seed++)
        CHECK(run(seed, STEPS), "seed %lu: %s", (unsigned long)seed, machine.wrong);
}

/* Long ones: many promotions, demotions and evictions of the same tables. */
static void long_programs_find_no_difference(void)
{
    for (uint64_t seed = 1; seed <= 8 && !test_failed_now; seed++)
        CHECK(run(seed << 32, 20000), "seed %lu: %s", (unsigned long)seed << 32, machine.wrong);
}

/* Programs of differences that were found and mended. */
static void old_differences_stay_mended(void)
{
    static const struct {
        uint64_t seed;
        unsigned steps;
        enum programs programs;
    } old[] = {
        {4, 400, PROGRAMS_BEFORE_UNSYNC},
        {1003, 400, PROGRAMS_BEFORE_UNSYNC},
        {2024, 400, PROGRAMS_BEFORE_UNSYNC},
        {3002, 400, PROGRAMS_BEFORE_UNSYNC},
        {4032, 400, PROGRAMS_BEFORE_UNSYNC},
        {6047, 400, PROGRAMS_BEFORE_UNSYNC},
        {100008, 400, PROGRAMS_BEFORE_UNSYNC},
        {100531, 400, PROGRAMS_BEFORE_UNSYNC},
        {105075, 400, PROGRAMS_BEFORE_UNSYNC},
        {108515, 400, PROGRAMS_BEFORE_UNSYNC},
        {900036, 4000, PROGRAMS_BEFORE_UNSYNC},
        {900040, 4000, PROGRAMS_BEFORE_UNSYNC},
        {900161, 4000, PROGRAMS_BEFORE_UNSYNC},
        {900309, 4000, PROGRAMS_BEFORE_UNSYNC},
        /* a fault that gave up the table of its own root: SHADOW without a node */
        {2580, 400, PROGRAMS_BEFORE_NARROW},
        /* links to the node of a table out of sync, and to one above, that INVLPG did not reach */
        {93147, 400, PROGRAMS_BEFORE_CHANGES},
        {600104112, 400, PROGRAMS_BEFORE_CHANGES},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(old); i++) {
        machine.programs = old[i].programs;
        CHECK(run(old[i].seed, old[i].steps), "seed %lu: %s", (unsigned long)old[i].seed,
              machine.wrong);
    }
    machine.programs = PROGRAMS_NOW;
}

/* All that the policies, pools and states can do was done: a run that does nothing finds nothing.
 */
static void programs_reach_everything(void)
{
    struct cpt_stats sum = {0};
    uint64_t exits = 0, ticks[CPT_STATES] = {0};

    machine.policies = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        run(seed, STEPS);
        const struct cpt_stats *s = cpt_stats(machine.cpt);
        exits += machine.violations;
        machine.violations = 0;
        sum.table_writes += s->table_writes;
        sum.syncs += s->syncs;
        sum.dirtied += s->dirtied;
        sum.promotions += s->promotions;
        sum.demotions += s->demotions;
        sum.evictions += s->evictions;
        sum.root_changes += s->root_changes;
        sum.unsyncs += s->unsyncs;
        sum.resyncs += s->resyncs;
        sum.invlpgs += s->invlpgs;
        sum.prefetched += s->prefetched;
        sum.floods += s->floods;
        for (unsigned i = 0; i < CPT_STATES; i++)
            ticks[i] += s->state_ticks[i];
    }
    CHECK(exits > 5000 && sum.table_writes > 500 && sum.syncs > 1000 && sum.dirtied > 20,
          "exits: %lu, %lu, %lu, %lu", (unsigned long)exits, (unsigned long)sum.table_writes,
          (unsigned long)sum.syncs, (unsigned long)sum.dirtied);
    CHECK(sum.promotions > 100 && sum.demotions > 500 && sum.evictions > 100, "handling");
    CHECK(sum.root_changes > 500, "root changes");
    CHECK(machine.policies > 60, "%lu changes of the policy", (unsigned long)machine.policies);
    CHECK(sum.unsyncs > 200 && sum.resyncs > 200 && sum.invlpgs > 100 && sum.prefetched > 0,
          "out of sync: %lu %lu %lu %lu %lu", (unsigned long)sum.unsyncs,
          (unsigned long)sum.resyncs, (unsigned long)sum.invlpgs, (unsigned long)sum.floods,
          (unsigned long)sum.prefetched);
    CHECK(machine.not_judged * 10 < machine.judged, "%lu of %lu accesses could not be judged",
          (unsigned long)machine.not_judged, (unsigned long)machine.judged);
    CHECK(ticks[CPT_NESTED] > 1000 && ticks[CPT_COMPOUND] > 1000 && ticks[CPT_SHADOW] > 1000,
          "states: %lu %lu %lu", (unsigned long)ticks[0], (unsigned long)ticks[1],
          (unsigned long)ticks[2]);
}

/* cpt_check must see damage: bits of entries that decide where they lead and what they grant. */
static void the_invariants_notice_damage(void)
{
    static const uint64_t damage[] = {PTE_P,     PTE_W,     PTE_U,      PTE_A,
                                      PTE_D,     PTE_NX,    1ull << 12, 1ull << 38,
                                      1ull << 9, 2ull << 9, 4ull << 9};
    unsigned noticed = 0, tried = 0;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        run(seed, STEPS);
        if (cpt_check(machine.cpt))
            continue; /* a table that is not settled just now */
        for (unsigned i = 0; i < CPT_FORMATS * NODES_MAX; i++) {
            uint64_t *page = machine.nodes[i / NODES_MAX] + (i % NODES_MAX) * PT_ENTRIES;
            for (unsigned slot = 0; slot < 3; slot++) {
                uint64_t kept = page[slot];
                if (!(kept & PTE_P) ||
                    !machine_node_used(&machine, (enum cpt_format)(i / NODES_MAX), i % NODES_MAX))
                    continue;
                for (unsigned d = 0; d < ARRAY_SIZE(damage); d++) {
                    page[slot] = kept ^ damage[d];
                    tried++;
                    noticed += cpt_check(machine.cpt) != NULL;
                }
                page[slot] = kept;
            }
        }
        CHECK(!cpt_check(machine.cpt), "seed %lu: after the damage was mended",
              (unsigned long)seed);
    }
    /* Not all of it matters: a trap may lose rights, a clean leaf be what it likes where the
     * guest's is. */
    CHECK(tried > 1000 && noticed > tried / 3, "%u of %u", noticed, tried);
}

/* The guest's own tables, from the region's root down, lead to the table that the region is of. */
static bool region_leads_to(const struct cpt *c, struct trace_region region, const struct table *t)
{
    uint64_t gfn = region.root;

    for (unsigned level = c->settings.levels; level > region.level; level--) {
        uint64_t e = load_entry(guest_table(c, gfn) + pt_index(gva(region.va), level));
        if (!(e & PTE_P))
            return false;
        gfn = (e & PTE_ADDRESS) >> PAGE_SHIFT;
    }
    return gfn == t->gfn;
}

static void regions_lead_to_their_tables(void)
{
    unsigned known = 0, below_roots = 0;

    for (uint64_t seed = 1; seed <= 200; seed++) {
        run(seed, STEPS);
        const struct cpt *c = machine.cpt;
        for (uint32_t i = 0; i < c->table_count; i++) {
            const struct table *t = &c->table[i];
            if (t->handling == HANDLING_FREE || (t->links == CPT_NONE && t->nodes == CPT_NONE))
                continue;
            struct trace_region region;
            region_find(c, t, t->level, &region);
            if (region.va == TRACE_NOWHERE)
                continue;
            known++;
            below_roots += region.level < c->settings.levels;
            CHECK(region_leads_to(c, region, t), "seed %lu: table %lx is not at %lx",
                  (unsigned long)seed, (unsigned long)t->gfn, (unsigned long)region.va);
        }
    }
    CHECK(known > 500 && below_roots > 300, "%u known, %u below roots", known, below_roots);
}

/* --- few nodes -------------------------------------------------------------------------------- */

#define LEAF_TABLES 20u
#define OPERANDS    8u

/* Root, two tables, and leaf tables that map one page of data each: frames in this order. */
static uint64_t guest_of_leaf_tables(void)
{
    const uint64_t flags = PTE_P | PTE_W | PTE_A;

    for (unsigned level = 4; level > 2; level--)
        machine_frame(&machine, 4 - level)[0] = hot_gpa(5 - level) | flags;
    for (unsigned t = 0; t < LEAF_TABLES; t++) {
        machine_frame(&machine, 2)[t] = hot_gpa(3 + t) | flags;
        machine_frame(&machine, 3 + t)[0] = hot_gpa(3 + LEAF_TABLES) | flags;
    }
    return hot_gpa(0);
}

/* So many processors at an instruction with operands by different leaf tables, turn by turn.
 * Whether one of them ends. */
static bool an_instruction_ends(unsigned processors, unsigned first)
{
    uint64_t gva[PROCESSORS][OPERANDS];

    for (unsigned n = 0; n < PROCESSORS * OPERANDS; n++)
        gva[n / OPERANDS][n % OPERANDS] = (uint64_t)((first + n) % LEAF_TABLES) << PAGE_SHIFT_2M;
    for (unsigned exits = 0; exits < EXITS_MAX * OPERANDS && !machine.wrong[0]; exits++) {
        unsigned p = exits % processors;
        if (machine_read_all(&machine, p, gva[p], OPERANDS))
            return true;
        machine_refresh(&machine, (p + 1) % processors); /* it is told of what the first did */
    }
    return false;
}

/* A guest of leaf tables, with so many nodes of each format. */
static void start_with_leaf_tables(const struct policy_settings *policy, uint32_t few)
{
    const uint32_t nodes[CPT_FORMATS] = {few, few};
    struct cpt_settings settings = {.levels = 4,
                                    .physical_bits = PHYSICAL_BITS,
                                    .max_leaf = 3,
                                    .policy = *policy,
                                    .interval = 1,
                                    .interval_max = 1};

    settings.policy.cost_reference = 1000;
    settings.policy.walk_ticks = 1;
    machine.look_on = NULL;
    machine_start(&machine, &settings, nodes);
    uint64_t cr3 = guest_of_leaf_tables();
    for (unsigned p = 0; p < PROCESSORS; p++)
        machine_load_cr3(&machine, p, cr3, false);
}

static void end_interval(void)
{
    machine.now += 10;
    machine.trace.time = machine.now;
    cpt_tick(machine.cpt, &machine.cpu[0].cpt, machine.now);
    machine_refresh(&machine, 0);
}

static uint64_t evictions_with(const struct policy_settings *policy, uint32_t few,
                               unsigned processors)
{
    start_with_leaf_tables(policy, few);
    machine.cpt->cpus = processors;
    for (unsigned round = 0; round < LEAF_TABLES; round++) {
        for (unsigned p = 0; p < processors; p++)
            machine_load_cr3(&machine, p, hot_gpa(0), false);
        CHECK(an_instruction_ends(processors, round * 3), "%s, %u nodes, %u processors: %s",
              policy_name(policy->kind), few, processors, machine.wrong);
        if (round % 8 == 0) /* most nodes are as old as others */
            end_interval();
    }
    return cpt_stats(machine.cpt)->evictions;
}

/* What one operand needs must not take the place of another's for ever. */
static void instructions_end_however_few_nodes(void)
{
    static const struct policy_settings policies[] = {
        {.kind = POLICY_STATIC, .pinned_shadow = true},
        {.kind = POLICY_STATIC, .switch_level = 0},
        {.kind = POLICY_SHSP},
        {.kind = POLICY_COST, .demote_writes = 2, .promote_unchanged = 1},
        {.kind = POLICY_THRESHOLD, .demote_writes = 2, .promote_unchanged = 1},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
        uint64_t evictions = 0;
        for (uint32_t few = 1; few <= LEAF_TABLES + 4; few++) {
            for (unsigned processors = 1; processors <= PROCESSORS; processors++)
                evictions += evictions_with(&policies[i], few, processors);
        }
        CHECK(evictions > 10, "%s: %lu evictions", policy_name(policies[i].kind),
              (unsigned long)evictions);
    }
}

/* With more tables in use than nodes, what is in place stays: evictions do not go on with time. */
static void few_nodes_do_not_change_hands_for_ever(void)
{
    enum { INTERVALS = 320, NODES = 10 };
    static const enum policy_kind kinds[] = {POLICY_COST, POLICY_THRESHOLD};

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        const struct policy_settings policy = {
            .kind = kinds[i], .demote_writes = 2, .promote_unchanged = 1, .root_age = 1};
        start_with_leaf_tables(&policy, NODES);
        machine.cpt->cpus = 1;
        uint64_t first = 0;
        for (unsigned interval = 0; interval < 2 * INTERVALS; interval++) {
            if (interval == INTERVALS)
                first = cpt_stats(machine.cpt)->evictions;
            for (uint64_t t = 0; t < LEAF_TABLES; t++)
                machine_access(&machine, 0, t << PAGE_SHIFT_2M, WALK_READ, 0);
            end_interval();
        }
        uint64_t later = cpt_stats(machine.cpt)->evictions - first;
        CHECK(first > 0, "%s: no evictions", policy_name(kinds[i]));
        CHECK(later > 0 && later <= 2 * INTERVALS / 16, "%s: %lu evictions in %u intervals",
              policy_name(kinds[i]), (unsigned long)later, INTERVALS);
    }
}

/* --- few links -------------------------------------------------------------------------------- */

#define MANY_ROOTS   6u
#define ROOT_ENTRIES 256u

/* Roots whose entries all lead to one table: few nodes, and many links. */
static void make_roots_of_one_table(void)
{
    const uint64_t flags = PTE_P | PTE_W | PTE_A;

    for (unsigned r = 0; r < MANY_ROOTS; r++) {
        for (unsigned slot = 0; slot < ROOT_ENTRIES; slot++)
            machine_frame(&machine, r)[slot] = hot_gpa(MANY_ROOTS) | flags;
    }
    for (unsigned frame = MANY_ROOTS; frame < MANY_ROOTS + 3; frame++)
        machine_frame(&machine, frame)[0] = hot_gpa(frame + 1) | flags;
}

/* Whether the root's memory can be read by nodes, in an interval in which there is room for them.
 */
static bool runs_by_nodes(unsigned r, enum cpt_state state)
{
    machine_load_cr3(&machine, 0, hot_gpa(r), false);
    for (uint64_t slot = 0; slot < ROOT_ENTRIES; slot++)
        machine_access(&machine, 0, slot << 39, WALK_READ, 0);
    return machine.cpu[0].cpt.state == state;
}

/* What roots that do not run have linked does not keep the others from theirs. */
static void links_of_idle_roots_are_taken(void)
{
    static const struct {
        struct policy_settings policy;
        enum cpt_state state;
    } cases[] = {
        {{.kind = POLICY_STATIC, .pinned_shadow = true}, CPT_SHADOW},
        {{.kind = POLICY_STATIC, .switch_level = 0}, CPT_COMPOUND},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        start_with_leaf_tables(&cases[i].policy, 16);
        machine.cpt->cpus = 1;
        make_roots_of_one_table();
        for (unsigned r = 0; r < MANY_ROOTS; r++) {
            machine_load_cr3(&machine, 0, hot_gpa(r), false);
            end_interval(); /* by which it rises */
            end_interval();
            CHECK(runs_by_nodes(r, cases[i].state), "case %u: root %u is in state %d", i, r,
                  machine.cpu[0].cpt.state);
        }
        CHECK(!machine.wrong[0], "case %u: %s", i, machine.wrong);
    }
}

int main(void)
{
    if (!machine_create(&machine))
        return 1;
    RUN(random_programs_find_no_difference);
    RUN(long_programs_find_no_difference);
    RUN(old_differences_stay_mended);
    RUN(programs_reach_everything);
    RUN(the_invariants_notice_damage);
    RUN(regions_lead_to_their_tables);
    RUN(instructions_end_however_few_nodes);
    RUN(few_nodes_do_not_change_hands_for_ever);
    RUN(links_of_idle_roots_are_taken);
    machine_destroy(&machine);
    return test_status();
}
