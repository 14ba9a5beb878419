/* SPDX-License-Identifier: BSD-2-Clause */
/* See pmu_text.h. */
#include "hv/pmu_text.h"

#include "hv/console.h"

typedef unsigned long long ull;

#define CENTS           100u
#define EVENTS_PER_LINE 2u

static bool is_known(const struct pmu_counts *counts, enum pmu_role role)
{
    return (counts->known >> role & 1) != 0;
}

/* --- fields ----------------------------------------------------------------------------------- */

static void print_role(const char *name, const struct pmu_counts *counts, enum pmu_role role)
{
    if (is_known(counts, role))
        console_printf("\"%s\": %llu", name, (ull)counts->value[role]);
    else
        console_printf("\"%s\": null", name);
}

/* A sum, and of which events it is: "walk_cycles": 84, "walk_cycles_of": "loads+stores". */
static void print_sum(const char *name, struct pmu_sum sum)
{
    const char *before = "";

    if (!sum.of) {
        console_printf("\"%s\": null, \"%s_of\": null", name, name);
        return;
    }
    console_printf("\"%s\": %llu, \"%s_of\": \"", name, (ull)sum.value, name);
    for (unsigned role = 0; role < PMU_ROLES; role++) {
        if (sum.of >> role & 1) {
            console_printf("%s%s", before, pmu_role_of((enum pmu_role)role));
            before = "+";
        }
    }
    console_printf("\"");
}

void pmu_print_fields(const struct pmu *pmu, const struct pmu_counts *counts)
{
    if (pmu->count == 0) {
        console_printf("\"pmu\": null, \"pmu_reason\": \"%s\"", pmu->why.text);
        return;
    }
    console_printf("\"pmu\": {");
    print_role("instructions", counts, PMU_INSTRUCTIONS);
    console_printf(", ");
    print_role("cycles", counts, PMU_CYCLES);
    console_printf(", ");
    print_role("reference_cycles", counts, PMU_REFERENCE_CYCLES);
    console_printf(", ");
    print_sum("walk_cycles", pmu_walk_cycles(pmu, counts));
    console_printf(", ");
    print_role("ept_walk_cycles", counts, PMU_EPT_WALK);
    console_printf(", ");
    print_sum("tlb_misses", pmu_tlb_misses(counts));
    console_printf(", \"events\": {");
    for (unsigned i = 0; i < pmu->count; i++) {
        console_printf(i > 0 ? ", " : "");
        print_role(pmu->counter[i].event->name, counts, pmu->counter[i].event->role);
    }
    console_printf("}}, \"pmu_reason\": null");
}

/* --- the table -------------------------------------------------------------------------------- */

/* A column of 15 with its space: hundredths an operation, rounded, or "-". */
static void print_column(uint64_t value, bool known, uint64_t ops)
{
    if (!known || ops == 0) {
        console_printf(" %14s", "-");
        return;
    }
    ull whole = value / ops;
    ull cents = (value % ops * CENTS + ops / 2) / ops; /* up to 100 */
    console_printf(" %11llu.%02llu", whole + cents / CENTS, cents % CENTS);
}

static void print_role_column(const struct pmu_counts *counts, enum pmu_role role, uint64_t ops)
{
    print_column(counts->value[role], is_known(counts, role), ops);
}

void pmu_print_head(const char *labels)
{
    console_printf("%-39s %14s %14s %14s %14s\n", labels, "instr/op", "cycles/op", "walk cycles/op",
                   "TLB misses/op");
}

void pmu_print_row(const struct pmu *pmu, const struct pmu_counts *counts, const char *label,
                   uint64_t ops)
{
    struct pmu_sum walks = pmu_walk_cycles(pmu, counts);
    struct pmu_sum misses = pmu_tlb_misses(counts);

    console_printf("%-39s", label);
    print_role_column(counts, PMU_INSTRUCTIONS, ops);
    print_role_column(counts, PMU_CYCLES, ops);
    print_column(walks.value, walks.of != 0, ops);
    print_column(misses.value, misses.of != 0, ops);
    console_printf("\n");
}

void pmu_print_events(const struct pmu *pmu)
{
    for (unsigned i = 0; i < pmu->count; i++) {
        console_printf(i == 0 ? "counted:" : i % EVENTS_PER_LINE == 0 ? "\n        " : "");
        console_printf(" %s", pmu->counter[i].event->name);
    }
    console_printf("\n");
}
