/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The compound page table against the oracle (tests/oracle): a short run, and the programs that
 * once found a difference. `make oracle` runs long.
 */
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

/* Seeds and steps of differences that were found and mended. */
static void old_differences_stay_mended(void)
{
    static const struct {
        uint64_t seed;
        unsigned steps;
    } old[] = {
        {4, 400},       {1003, 400},    {2024, 400},    {3002, 400},    {4032, 400},
        {6047, 400},    {100008, 400},  {100531, 400},  {105075, 400},  {108515, 400},
        {900036, 4000}, {900040, 4000}, {900161, 4000}, {900309, 4000},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(old); i++)
        CHECK(run(old[i].seed, old[i].steps), "seed %lu: %s", (unsigned long)old[i].seed,
              machine.wrong);
}

/* All that the policies, pools and states can do was done: a run that does nothing finds nothing.
 */
static void programs_reach_everything(void)
{
    struct cpt_stats sum = {0};
    uint64_t exits = 0, ticks[CPT_STATES] = {0};

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
        for (unsigned i = 0; i < CPT_STATES; i++)
            ticks[i] += s->state_ticks[i];
    }
    CHECK(exits > 5000 && sum.table_writes > 500 && sum.syncs > 1000 && sum.dirtied > 20,
          "exits: %lu, %lu, %lu, %lu", (unsigned long)exits, (unsigned long)sum.table_writes,
          (unsigned long)sum.syncs, (unsigned long)sum.dirtied);
    CHECK(sum.promotions > 100 && sum.demotions > 500 && sum.evictions > 100, "handling");
    CHECK(sum.root_changes > 500, "root changes");
    CHECK(ticks[CPT_NESTED] > 1000 && ticks[CPT_COMPOUND] > 1000 && ticks[CPT_SHADOW] > 1000,
          "states: %lu %lu %lu", (unsigned long)ticks[0], (unsigned long)ticks[1],
          (unsigned long)ticks[2]);
}

int main(void)
{
    if (!machine_create(&machine))
        return 1;
    RUN(random_programs_find_no_difference);
    RUN(long_programs_find_no_difference);
    RUN(old_differences_stay_mended);
    RUN(programs_reach_everything);
    machine_destroy(&machine);
    return test_status();
}
