/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Faults that do not happen by themselves: a build with FAULTS (make FAULTS=1) lets what can fail
 * fail when the settings say so (fail =), one thing or several. In other builds the points are
 * constants that the compiler takes out, and the settings' key is refused.
 *
 * Allocations are counted: from the hypervisor's start, and anew for each VM that has a `fail` of
 * its own, from its making to its end; the N-th finds no memory. Such VMs run alone, so that what
 * is counted is theirs.
 */
#ifndef HV_FAULTS_H
#define HV_FAULTS_H

#include "hv/types.h"

#ifdef FAULTS
#define FAULTS_BUILT true
#else
#define FAULTS_BUILT false
#endif

/* How a processor other than the first fails to start. */
enum fault_cpu {
    FAULT_CPU_ABSENT,  /* it does not come */
    FAULT_CPU_HANGS,   /* it comes, and then stands still */
    FAULT_CPU_STOPS,   /* the same, but in the middle of comparing clocks */
    FAULT_CPU_DIFFERS, /* it finds that it lacks what the boot processor has */
    FAULT_CPU_KINDS
};

#define FAULT_CAPABILITIES_MAX 16u
#define FAULT_NAME_MAX         40u

/* What is to fail in the machine: `fail =` of [twofold]. */
struct fault_plan {
    uint32_t alloc;                /* the allocation that does, from 1; 0: none */
    uint64_t cpu[FAULT_CPU_KINDS]; /* bit n: the n-th processor that is started, from 1 */
    char capability[FAULT_CAPABILITIES_MAX][FAULT_NAME_MAX]; /* their names, '-' for blanks */
    uint32_t capabilities;
    bool each_capability; /* see faults_next_capability */
};

/* And while a VM is there: its own `fail =`. */
struct fault_of_vm {
    bool wanted;
    uint32_t alloc; /* as above, since its start */
    bool stuck;     /* its first hypercall never ends */
    bool kept_out;  /* there is always something else to see to before it is entered */
};

/* hv/faults.c; in a build without it use the functions below. */
void faults_plan_now(const struct fault_plan *plan);
void faults_arm_now(uint32_t alloc);
uint32_t faults_allocations_now(bool *came);
bool fault_alloc_now(uint64_t bytes);
bool fault_cpu_now(enum fault_cpu kind, unsigned index);
bool fault_capability_now(const char *name);
const char *faults_next_capability_now(bool first);

/* From now on, and from the next allocation on, `plan` counts; it stays where it is. */
static inline void faults_plan(const struct fault_plan *plan)
{
    if (FAULTS_BUILT)
        faults_plan_now(plan);
}

/* Count allocations anew; the one with number `alloc` fails (0: none). */
static inline void faults_arm(uint32_t alloc)
{
    if (FAULTS_BUILT)
        faults_arm_now(alloc);
}

/* Allocations since then; *came: one of them has failed. */
static inline uint32_t faults_allocations(bool *came)
{
    *came = false;
    return FAULTS_BUILT ? faults_allocations_now(came) : 0;
}

/* Whether this allocation must find no memory. */
static inline bool fault_alloc(uint64_t bytes)
{
    return FAULTS_BUILT && fault_alloc_now(bytes);
}

static inline bool fault_cpu(enum fault_cpu kind, unsigned index)
{
    return FAULTS_BUILT && fault_cpu_now(kind, index);
}

/* Whether the processor must be found to lack what is called so. */
static inline bool fault_capability(const char *name)
{
    return FAULTS_BUILT && fault_capability_now(name);
}

/*
 * For a dry run of what looks at capabilities: with `first` the first one that it asks for fails,
 * and after each further call the next one instead. The name of the one that failed since the last
 * call; NULL when none did, and from then on none does.
 */
static inline const char *faults_next_capability(bool first)
{
    return FAULTS_BUILT ? faults_next_capability_now(first) : NULL;
}

#endif
