/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle as a program: OPERATIONS random operations in programs of STEPS from SEED on. A
 * difference ends it with status 1 and the command that repeats it.
 *
 *      oracle [OPERATIONS [SEED [STEPS [v]]]]         v: print each exit
 */
#include "tests/oracle/oracle.h"

#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    static struct machine m;
    uint64_t operations = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    unsigned steps = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 400;
    uint64_t done = 0, violations = 0;
    struct cpt_stats sum = {0};

    if (steps == 0 || !machine_create(&m)) {
        fprintf(stderr, "oracle: no memory, or STEPS is 0\n");
        return 2;
    }
    m.verbose = argc > 4;
    for (; done < operations; done += steps, seed++) {
        m.chance = chance_of_seed(seed);
        m.violations = 0;
        if (!program_run(&m, steps)) {
            printf("difference after %lu operations, %.1f s of processor time: %s\n",
                   (unsigned long)done, (double)clock() / CLOCKS_PER_SEC, m.wrong);
            printf("repeat it with: %s %u %lu %u\n", argv[0], steps, (unsigned long)seed, steps);
            return 1;
        }
        violations += m.violations;
        sum.promotions += cpt_stats(m.cpt)->promotions;
        sum.demotions += cpt_stats(m.cpt)->demotions;
        sum.evictions += cpt_stats(m.cpt)->evictions;
        sum.table_writes += cpt_stats(m.cpt)->table_writes;
        sum.root_changes += cpt_stats(m.cpt)->root_changes;
        sum.syncs += cpt_stats(m.cpt)->syncs;
        sum.unsyncs += cpt_stats(m.cpt)->unsyncs;
        sum.invlpgs += cpt_stats(m.cpt)->invlpgs;
        sum.floods += cpt_stats(m.cpt)->floods;
        sum.prefetched += cpt_stats(m.cpt)->prefetched;
    }
    printf("%lu operations without a difference: %lu exits, %lu syncs, %lu table writes, %lu "
           "promotions, "
           "%lu demotions, %lu evictions, %lu root changes, %lu tables out of sync, %lu INVLPGs "
           "for them, "
           "%lu entries prefetched, %lu floods; %lu of %lu accesses could not be judged\n",
           (unsigned long)done, (unsigned long)violations, (unsigned long)sum.syncs,
           (unsigned long)sum.table_writes, (unsigned long)sum.promotions,
           (unsigned long)sum.demotions, (unsigned long)sum.evictions,
           (unsigned long)sum.root_changes, (unsigned long)sum.unsyncs, (unsigned long)sum.invlpgs,
           (unsigned long)sum.prefetched, (unsigned long)sum.floods, (unsigned long)m.not_judged,
           (unsigned long)m.judged);
    machine_destroy(&m);
    return 0;
}
