/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Performance counters: which events a processor can count, which counter counts which, and what
 * lies between two readings. Portable: MSRs are reached through struct pmu_machine, so that the
 * tests have a model of the counters.
 *
 * What a processor has says CPUID leaf 0xa (SDM 3B 20.2). Its architectural events are the same
 * everywhere; page walks and TLB misses are counted by events that depend on the model (pmu.c has
 * the tables). Where there are more events than counters, the first in the table win, and a record
 * tells by name what was counted. The counters run while a guest runs, and not otherwise.
 */
#ifndef HV_PMU_H
#define HV_PMU_H

#include "hv/types.h"
#include "hv/why.h"

#define PMU_GENERAL_MAX  8u
#define PMU_FIXED_MAX    3u /* fixed counters 0 to 2: the same events as the architectural ones */
#define PMU_COUNTERS_MAX (PMU_GENERAL_MAX + PMU_FIXED_MAX)

/* IA32_PERF_GLOBAL_CTRL: general counters from bit 0, fixed ones from bit 32, 1 lets one run */
#define PMU_MSR_GLOBAL_CTRL 0x38fu

/* What an event counts, whatever the model calls it. */
enum pmu_role {
    PMU_INSTRUCTIONS, /* retired */
    PMU_CYCLES,       /* unhalted core cycles */
    PMU_REFERENCE_CYCLES,
    PMU_LOAD_WALK, /* cycles of page walks, by what asked for the translation */
    PMU_STORE_WALK,
    PMU_FETCH_WALK,
    PMU_EPT_WALK,  /* cycles of the EPT's part of walks */
    PMU_LOAD_MISS, /* misses of all TLB levels whose walk was completed, likewise */
    PMU_STORE_MISS,
    PMU_FETCH_MISS,
    PMU_ROLES
};

struct pmu_event {
    enum pmu_role role;
    uint8_t select, umask; /* of IA32_PERFEVTSELx */
    const char *name;      /* the manufacturer's */
};

struct pmu_leaf {
    uint32_t eax, ebx, ecx, edx;
};

/* CPUID's leaves; those that are not there are all 0. */
struct pmu_cpuid {
    struct pmu_leaf leaf_0, leaf_1, leaf_7, leaf_a, leaf_1a;
};

struct pmu_counter {
    const struct pmu_event *event;
    bool fixed;
    unsigned index; /* among its kind */
    unsigned width; /* bits */
};

struct pmu {
    unsigned version;  /* of architectural performance monitoring */
    unsigned generals; /* counters that the processor has of each kind */
    unsigned fixed;
    const char *model; /* whose table is used; NULL: architectural events alone */
    bool ept_apart;    /* the walk events leave out what EPT_WALK counts */
    struct pmu_counter counter[PMU_COUNTERS_MAX];
    unsigned count; /* counters in use; 0: none */
    struct why why; /* with count 0: why there are none */
};

/* How the hypervisor reaches the processor. */
struct pmu_machine {
    void *context;
    uint64_t (*read)(void *context, uint32_t msr);
    void (*write)(void *context, uint32_t msr, uint64_t value);
    /* Retire instructions, and miss the TLB with loads and stores: each event but those of fetches
     * and EPT must count something. */
    void (*provoke)(void *context);
};

struct pmu_msr {
    uint32_t msr;
    uint64_t value;
};

struct pmu_writes {
    struct pmu_msr write[PMU_GENERAL_MAX];
    unsigned count;
};

/* The counters at one time. */
struct pmu_reading {
    uint64_t raw[PMU_COUNTERS_MAX];
    uint64_t time; /* TSC */
};

/* Events between two readings. */
struct pmu_counts {
    uint64_t value[PMU_ROLES];
    uint32_t known; /* bit n: role n was counted */
};

/* A sum over several events, and of which: bit n of `of` is role n. 0: nothing that can be told. */
struct pmu_sum {
    uint64_t value;
    uint32_t of;
};

/*
 * Choose events and counters by what CPUID says, without the roles whose bit is set in
 * `without_roles`. With nothing to count pmu->count is 0, and pmu->why says why.
 */
void pmu_choose(struct pmu *pmu, const struct pmu_cpuid *cpuid, uint32_t without_roles);

/*
 * Choose, program the counters (they stand still then, at 0) and see that each counts: a hypervisor
 * beneath may offer counters or events that do not. Those are left out, and others take their
 * place.
 */
void pmu_init(struct pmu *pmu, const struct pmu_cpuid *cpuid, const struct pmu_machine *machine);

/* Set another processor's counters up as pmu_init has chosen; they stand still, at 0. */
void pmu_program(const struct pmu *pmu, const struct pmu_machine *machine);

/* The MSR writes that let the counters run or stand still: for VM entry and VM exit. */
void pmu_switch(const struct pmu *pmu, bool run, struct pmu_writes *writes);

/* Do these writes here and now. */
void pmu_let_run(const struct pmu *pmu, const struct pmu_machine *machine, bool run);

/* `now`: TSC. The counters must stand still, or what is counted meanwhile is told as well. */
void pmu_read(const struct pmu *pmu, const struct pmu_machine *machine, uint64_t now,
              struct pmu_reading *reading);

/*
 * What was counted between two readings. A counter that wrapped once is told right; one that may
 * have wrapped more often than that, by the time between them, is not known.
 */
void pmu_between(const struct pmu *pmu, const struct pmu_reading *from,
                 const struct pmu_reading *to, struct pmu_counts *counts);

/*
 * Cycles of page walks: of loads, and of stores and fetches where they are counted; with EPT's
 * part. Not known where loads, or an EPT's part that stands apart, are not counted.
 */
struct pmu_sum pmu_walk_cycles(const struct pmu *pmu, const struct pmu_counts *counts);

/* TLB misses: of loads, and of stores and fetches where they are counted. */
struct pmu_sum pmu_tlb_misses(const struct pmu_counts *counts);

/* What an event of a sum is of: "loads", "stores", "fetches", "ept". */
const char *pmu_role_of(enum pmu_role role);

#endif
