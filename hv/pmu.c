/* SPDX-License-Identifier: BSD-2-Clause */
/* See pmu.h. */
#include "hv/pmu.h"

#include <string.h>

#define BIT(n) (1ull << (n))

/* MSRs, SDM 4 table 2-2 and SDM 3B 20.2 */
#define MSR_PMC0           0xc1u
#define MSR_PERFEVTSEL0    0x186u
#define MSR_FIXED_CTR0     0x309u
#define MSR_FIXED_CTR_CTRL 0x38du /* 4 bits a counter: OS, USR, any thread, interrupt */

/* IA32_PERFEVTSELx, SDM 3B figure 20-1: event select 7:0, unit mask 15:8 */
#define EVENT_UMASK_SHIFT 8u
#define EVENT_USR         BIT(16)
#define EVENT_OS          BIT(17)
#define EVENT_ENABLE      BIT(22)

#define FIXED_CTRL_BITS    4u
#define FIXED_CTRL_OS_USR  3u
#define GLOBAL_FIXED_SHIFT 32u

/* CPUID leaf 0xa, SDM 3B 20.2 */
#define A_EAX_VERSION(eax)     ((eax)&0xff)
#define A_EAX_GENERALS(eax)    ((eax) >> 8 & 0xff)
#define A_EAX_WIDTH(eax)       ((eax) >> 16 & 0xff)
#define A_EAX_EVENTS(eax)      ((eax) >> 24) /* bits of EBX that mean something */
#define A_EDX_FIXED(edx)       ((edx)&0x1f)
#define A_EDX_FIXED_WIDTH(edx) ((edx) >> 5 & 0xff)

#define VERSION_GLOBAL_CTRL  2u /* from here on: IA32_PERF_GLOBAL_CTRL, fixed counters */
#define VERSION_FIXED_BITMAP 5u /* from here on: ECX has a bit for each fixed counter */

#define LEAF_7_EDX_HYBRID BIT(15)
#define CORE_TYPE(eax)    ((eax) >> 24) /* leaf 0x1a */
#define CORE_TYPE_CORE    0x40u

#define WIDTH_MAX 64u

/*
 * Events that a counter may count in one TSC tick: the bound that tells whether it can have wrapped
 * twice. More than any processor retires, or has walks under way, with its clock raised.
 */
#define EVENTS_PER_TICK_MAX 16u

#define ROLE(role) (1u << (role))

/* --- events ----------------------------------------------------------------------------------- */

/* The architectural events, SDM 3B table 20-1. In the order of their fixed counters and of their
 * bits in EBX by `ebx_bit`. */
static const struct pmu_event architectural[PMU_FIXED_MAX] = {
    {PMU_INSTRUCTIONS, 0xc0, 0x00, "INST_RETIRED.ANY"},
    {PMU_CYCLES, 0x3c, 0x00, "CPU_CLK_UNHALTED.THREAD"},
    {PMU_REFERENCE_CYCLES, 0x3c, 0x01, "CPU_CLK_UNHALTED.REF_TSC"},
};
static const unsigned ebx_bit[PMU_FIXED_MAX] = {1, 0, 2};

/*
 * Reference cycles are the TSC's on the fixed counter. The architectural event that general
 * counters can count runs with another clock (the core crystal or the bus), so that it is none of
 * these.
 */
#define ARCHITECTURAL_GENERAL 2u

/*
 * Page walks and TLB misses by model. Codes and names: Intel's event files
 * (github.com/intel/perfmon, the folder named at each table; its mapfile.csv has the models), which
 * replace the tables of SDM 3B chapter 20. In the order in which counters are given out: with 4
 * counters the first 4.
 *
 * A miss is a walk that was completed, of any page size. WALK_DURATION and WALK_PENDING are the
 * same count: cycles, summed over the walkers that are at work (Skylake and later have two).
 */
/* SNB, JKT */
static const struct pmu_event sandy_bridge[] = {
    {PMU_LOAD_WALK, 0x08, 0x04, "DTLB_LOAD_MISSES.WALK_DURATION"},
    {PMU_LOAD_MISS, 0x08, 0x02, "DTLB_LOAD_MISSES.WALK_COMPLETED"},
    {PMU_STORE_WALK, 0x49, 0x04, "DTLB_STORE_MISSES.WALK_DURATION"},
    {PMU_STORE_MISS, 0x49, 0x02, "DTLB_STORE_MISSES.WALK_COMPLETED"},
    {PMU_FETCH_WALK, 0x85, 0x04, "ITLB_MISSES.WALK_DURATION"},
    {PMU_FETCH_MISS, 0x85, 0x02, "ITLB_MISSES.WALK_COMPLETED"},
    {PMU_EPT_WALK, 0x4f, 0x10, "EPT.WALK_CYCLES"},
};

/* IVB, IVT: other unit masks for loads */
static const struct pmu_event ivy_bridge[] = {
    {PMU_LOAD_WALK, 0x08, 0x84, "DTLB_LOAD_MISSES.WALK_DURATION"},
    {PMU_LOAD_MISS, 0x08, 0x82, "DTLB_LOAD_MISSES.WALK_COMPLETED"},
    {PMU_STORE_WALK, 0x49, 0x04, "DTLB_STORE_MISSES.WALK_DURATION"},
    {PMU_STORE_MISS, 0x49, 0x02, "DTLB_STORE_MISSES.WALK_COMPLETED"},
    {PMU_FETCH_WALK, 0x85, 0x04, "ITLB_MISSES.WALK_DURATION"},
    {PMU_FETCH_MISS, 0x85, 0x02, "ITLB_MISSES.WALK_COMPLETED"},
    {PMU_EPT_WALK, 0x4f, 0x10, "EPT.WALK_CYCLES"},
};

/* HSW, HSX, BDW, BDX, BDW-DE (there with erratum BDM69 and its like: walk counts may be wrong) */
static const struct pmu_event haswell[] = {
    {PMU_LOAD_WALK, 0x08, 0x10, "DTLB_LOAD_MISSES.WALK_DURATION"},
    {PMU_LOAD_MISS, 0x08, 0x0e, "DTLB_LOAD_MISSES.WALK_COMPLETED"},
    {PMU_STORE_WALK, 0x49, 0x10, "DTLB_STORE_MISSES.WALK_DURATION"},
    {PMU_STORE_MISS, 0x49, 0x0e, "DTLB_STORE_MISSES.WALK_COMPLETED"},
    {PMU_FETCH_WALK, 0x85, 0x10, "ITLB_MISSES.WALK_DURATION"},
    {PMU_FETCH_MISS, 0x85, 0x0e, "ITLB_MISSES.WALK_COMPLETED"},
    {PMU_EPT_WALK, 0x4f, 0x10, "EPT.WALK_CYCLES"},
};

/* SKL, SKX, CLX. The walk events leave EPT's part out, says their description; so it comes second.
 */
static const struct pmu_event skylake[] = {
    {PMU_LOAD_WALK, 0x08, 0x10, "DTLB_LOAD_MISSES.WALK_PENDING"},
    {PMU_EPT_WALK, 0x4f, 0x10, "EPT.WALK_PENDING"},
    {PMU_LOAD_MISS, 0x08, 0x0e, "DTLB_LOAD_MISSES.WALK_COMPLETED"},
    {PMU_STORE_WALK, 0x49, 0x10, "DTLB_STORE_MISSES.WALK_PENDING"},
    {PMU_STORE_MISS, 0x49, 0x0e, "DTLB_STORE_MISSES.WALK_COMPLETED"},
    {PMU_FETCH_WALK, 0x85, 0x10, "ITLB_MISSES.WALK_PENDING"},
    {PMU_FETCH_MISS, 0x85, 0x0e, "ITLB_MISSES.WALK_COMPLETED"},
};

/* ICL, ICX, TGL, RKL: nothing of EPT is listed; counters 0 to 3 only */
static const struct pmu_event ice_lake[] = {
    {PMU_LOAD_WALK, 0x08, 0x10, "DTLB_LOAD_MISSES.WALK_PENDING"},
    {PMU_LOAD_MISS, 0x08, 0x0e, "DTLB_LOAD_MISSES.WALK_COMPLETED"},
    {PMU_STORE_WALK, 0x49, 0x10, "DTLB_STORE_MISSES.WALK_PENDING"},
    {PMU_STORE_MISS, 0x49, 0x0e, "DTLB_STORE_MISSES.WALK_COMPLETED"},
    {PMU_FETCH_WALK, 0x85, 0x10, "ITLB_MISSES.WALK_PENDING"},
    {PMU_FETCH_MISS, 0x85, 0x0e, "ITLB_MISSES.WALK_COMPLETED"},
};

/* ADL (Golden Cove; Raptor Lake too), SPR, EMR: likewise, with other selects */
static const struct pmu_event golden_cove[] = {
    {PMU_LOAD_WALK, 0x12, 0x10, "DTLB_LOAD_MISSES.WALK_PENDING"},
    {PMU_LOAD_MISS, 0x12, 0x0e, "DTLB_LOAD_MISSES.WALK_COMPLETED"},
    {PMU_STORE_WALK, 0x13, 0x10, "DTLB_STORE_MISSES.WALK_PENDING"},
    {PMU_STORE_MISS, 0x13, 0x0e, "DTLB_STORE_MISSES.WALK_COMPLETED"},
    {PMU_FETCH_WALK, 0x11, 0x10, "ITLB_MISSES.WALK_PENDING"},
    {PMU_FETCH_MISS, 0x11, 0x0e, "ITLB_MISSES.WALK_COMPLETED"},
};

struct model {
    const char *name;
    const struct pmu_event *event;
    unsigned events;
    unsigned counters; /* general counters that can count them: 0 up to this */
    bool ept_apart;
    uint8_t model[8]; /* of family 6; 0 ends the list */
};

#define EVENTS(table) (table), ARRAY_SIZE(table)

static const struct model models[] = {
    {"Sandy Bridge", EVENTS(sandy_bridge), 8, false, {0x2a, 0x2d}},
    {"Ivy Bridge", EVENTS(ivy_bridge), 8, false, {0x3a, 0x3e}},
    {"Haswell", EVENTS(haswell), 8, false, {0x3c, 0x3f, 0x45, 0x46}},
    {"Broadwell", EVENTS(haswell), 8, false, {0x3d, 0x47, 0x4f, 0x56}},
    /* with Kaby, Coffee, Comet, Cascade and Cooper Lake */
    {"Skylake", EVENTS(skylake), 8, true, {0x4e, 0x5e, 0x55, 0x8e, 0x9e, 0xa5, 0xa6}},
    {"Ice Lake", EVENTS(ice_lake), 4, false, {0x7d, 0x7e, 0x6a, 0x6c}},
    {"Tiger Lake", EVENTS(ice_lake), 4, false, {0x8c, 0x8d}},
    {"Rocket Lake", EVENTS(ice_lake), 4, false, {0xa7}},
    {"Golden Cove", EVENTS(golden_cove), 4, false, {0x97, 0x9a, 0xb7, 0xba, 0xbf, 0x8f, 0xcf}},
};

/* --- which processor -------------------------------------------------------------------------- */

#define FAMILY_CORE 6u

static bool is_intel(const struct pmu_leaf *leaf_0)
{
    return memcmp(&leaf_0->ebx, "Genu", 4) == 0 && memcmp(&leaf_0->edx, "ineI", 4) == 0 &&
           memcmp(&leaf_0->ecx, "ntel", 4) == 0;
}

/* SDM 2A CPUID, figure 3-6: for family 6 the extended model counts too. */
static const struct model *find_model(const struct pmu_cpuid *cpuid)
{
    uint32_t signature = cpuid->leaf_1.eax;
    uint32_t family = signature >> 8 & 0xf;
    uint32_t number = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
    bool hybrid = (cpuid->leaf_7.edx & LEAF_7_EDX_HYBRID) != 0;

    if (family != FAMILY_CORE || number == 0)
        return NULL;
    if (hybrid && CORE_TYPE(cpuid->leaf_1a.eax) != CORE_TYPE_CORE)
        return NULL; /* an efficiency core: other events under the same model number */
    for (unsigned m = 0; m < ARRAY_SIZE(models); m++) {
        for (unsigned i = 0; i < sizeof(models[m].model); i++) {
            if (models[m].model[i] == number)
                return &models[m];
        }
    }
    return NULL;
}

/* --- the choice ------------------------------------------------------------------------------- */

static void use(struct pmu *pmu, const struct pmu_event *event, bool fixed, unsigned index,
                unsigned width)
{
    pmu->counter[pmu->count++] =
        (struct pmu_counter){.event = event, .fixed = fixed, .index = index, .width = width};
}

static bool has_fixed(const struct pmu_leaf *a, unsigned index)
{
    unsigned version = A_EAX_VERSION(a->eax);

    if (version < VERSION_GLOBAL_CTRL)
        return false;
    return A_EDX_FIXED(a->edx) > index ||
           (version >= VERSION_FIXED_BITMAP && (a->ecx >> index & 1));
}

/* A bit of EBX that is set, or that the vector is too short for, is an event that is not there. */
static bool has_architectural(const struct pmu_leaf *a, unsigned event)
{
    return A_EAX_EVENTS(a->eax) > ebx_bit[event] && !(a->ebx >> ebx_bit[event] & 1);
}

/* A width that no counter has comes from no processor: without trust in it, no counters. */
static bool width_is_good(unsigned width)
{
    return width > 0 && width <= WIDTH_MAX;
}

static void choose_fixed(struct pmu *pmu, const struct pmu_leaf *a, uint32_t without_roles)
{
    for (unsigned i = 0; i < PMU_FIXED_MAX; i++) {
        if (!has_fixed(a, i) || !width_is_good(A_EDX_FIXED_WIDTH(a->edx)))
            continue;
        pmu->fixed++;
        if (!(without_roles & ROLE(architectural[i].role)))
            use(pmu, &architectural[i], true, i, A_EDX_FIXED_WIDTH(a->edx));
    }
}

static bool is_used(const struct pmu *pmu, enum pmu_role role)
{
    for (unsigned i = 0; i < pmu->count; i++) {
        if (pmu->counter[i].event->role == role)
            return true;
    }
    return false;
}

/* First the model's events, then architectural ones that no fixed counter counts. */
static void choose_general(struct pmu *pmu, const struct pmu_leaf *a, const struct model *model,
                           uint32_t without_roles)
{
    unsigned next = 0, width = A_EAX_WIDTH(a->eax);

    for (unsigned i = 0; model && i < model->events; i++) {
        if (next < pmu->generals && next < model->counters &&
            !(without_roles & ROLE(model->event[i].role)))
            use(pmu, &model->event[i], false, next++, width);
    }
    for (unsigned i = 0; i < ARCHITECTURAL_GENERAL; i++) {
        if (next < pmu->generals && has_architectural(a, i) &&
            !is_used(pmu, architectural[i].role) && !(without_roles & ROLE(architectural[i].role)))
            use(pmu, &architectural[i], false, next++, width);
    }
}

void pmu_choose(struct pmu *pmu, const struct pmu_cpuid *cpuid, uint32_t without_roles)
{
    const struct pmu_leaf *a = &cpuid->leaf_a;
    const struct model *model = find_model(cpuid);
    unsigned generals = A_EAX_GENERALS(a->eax);

    *pmu = (struct pmu){.version = A_EAX_VERSION(a->eax)};
    if (!is_intel(&cpuid->leaf_0)) {
        pmu->version = 0;
        (void)why_set(&pmu->why, "not available on this processor (not Intel's)");
        return;
    }
    if (pmu->version == 0) {
        (void)why_set(&pmu->why, "not available on this processor (CPUID leaf 0xa: version 0)");
        return;
    }
    if (model) {
        pmu->model = model->name;
        pmu->ept_apart = model->ept_apart;
    }
    if (!width_is_good(A_EAX_WIDTH(a->eax)))
        generals = 0;
    pmu->generals = generals < PMU_GENERAL_MAX ? generals : PMU_GENERAL_MAX;
    choose_fixed(pmu, a, without_roles);
    choose_general(pmu, a, model, without_roles);
    if (pmu->count == 0 && without_roles)
        (void)why_set(&pmu->why,
                      "not available on this processor (CPUID leaf 0xa: version %u, %u general and "
                      "%u fixed counters, but none counts)",
                      pmu->version, pmu->generals, pmu->fixed);
    else if (pmu->count == 0)
        (void)why_set(&pmu->why,
                      "not available on this processor (CPUID leaf 0xa: version %u, no "
                      "counters)",
                      pmu->version);
}

/* --- MSRs ------------------------------------------------------------------------------------- */

static uint32_t counter_msr(const struct pmu_counter *c)
{
    return (c->fixed ? MSR_FIXED_CTR0 : MSR_PMC0) + c->index;
}

static uint64_t event_select(const struct pmu_counter *c, bool enable)
{
    return c->event->select | (uint64_t)c->event->umask << EVENT_UMASK_SHIFT | EVENT_USR |
           EVENT_OS | (enable ? EVENT_ENABLE : 0);
}

/* From version 2 on one MSR lets all counters run; before, each has its own enable bit alone. */
static bool has_global_ctrl(const struct pmu *pmu)
{
    return pmu->version >= VERSION_GLOBAL_CTRL;
}

void pmu_switch(const struct pmu *pmu, bool run, struct pmu_writes *writes)
{
    uint64_t enabled = 0;

    writes->count = 0;
    for (unsigned i = 0; i < pmu->count; i++) {
        const struct pmu_counter *c = &pmu->counter[i];
        enabled |= BIT(c->index + (c->fixed ? GLOBAL_FIXED_SHIFT : 0));
        if (!has_global_ctrl(pmu))
            writes->write[writes->count++] =
                (struct pmu_msr){MSR_PERFEVTSEL0 + c->index, event_select(c, run)};
    }
    if (has_global_ctrl(pmu) && pmu->count > 0)
        writes->write[writes->count++] = (struct pmu_msr){PMU_MSR_GLOBAL_CTRL, run ? enabled : 0};
}

void pmu_let_run(const struct pmu *pmu, const struct pmu_machine *machine, bool run)
{
    struct pmu_writes writes;

    pmu_switch(pmu, run, &writes);
    for (unsigned i = 0; i < writes.count; i++)
        machine->write(machine->context, writes.write[i].msr, writes.write[i].value);
}

/*
 * All counters stand still before any is changed: the firmware may have left some running. Counters
 * are only ever written with 0, so that the 32 bits that MSR_PMC0 takes (SDM 3B 20.2.6) are enough
 * without the full-width aliases.
 */
void pmu_program(const struct pmu *pmu, const struct pmu_machine *machine)
{
    uint64_t fixed = 0;

    if (has_global_ctrl(pmu))
        machine->write(machine->context, PMU_MSR_GLOBAL_CTRL, 0);
    for (unsigned i = 0; i < pmu->generals; i++)
        machine->write(machine->context, MSR_PERFEVTSEL0 + i, 0);
    for (unsigned i = 0; i < pmu->count; i++) {
        const struct pmu_counter *c = &pmu->counter[i];
        machine->write(machine->context, counter_msr(c), 0);
        if (c->fixed)
            fixed |= (uint64_t)FIXED_CTRL_OS_USR << c->index * FIXED_CTRL_BITS;
        else
            machine->write(machine->context, MSR_PERFEVTSEL0 + c->index,
                           event_select(c, has_global_ctrl(pmu)));
    }
    if (pmu->fixed > 0)
        machine->write(machine->context, MSR_FIXED_CTR_CTRL, fixed);
}

/* --- whether they count ----------------------------------------------------------------------- */

/* Of these nothing can be provoked without a guest. */
#define NOT_PROVOKED (ROLE(PMU_FETCH_WALK) | ROLE(PMU_FETCH_MISS) | ROLE(PMU_EPT_WALK))

/* Roles whose counter stood still though it should not have. */
static uint32_t silent_roles(const struct pmu *pmu, const struct pmu_machine *machine)
{
    uint32_t silent = 0;

    pmu_let_run(pmu, machine, true);
    machine->provoke(machine->context);
    pmu_let_run(pmu, machine, false);
    for (unsigned i = 0; i < pmu->count; i++) {
        const struct pmu_counter *c = &pmu->counter[i];
        uint32_t role = ROLE(c->event->role);
        if (!(role & NOT_PROVOKED) && machine->read(machine->context, counter_msr(c)) == 0)
            silent |= role;
    }
    return silent;
}

/* Each turn but the last leaves out a role, so that there are no more turns than roles. Where only
 * roles are left that nothing provokes, nothing speaks for the counters. */
void pmu_init(struct pmu *pmu, const struct pmu_cpuid *cpuid, const struct pmu_machine *machine)
{
    uint32_t without = 0, silent;

    do {
        pmu_choose(pmu, cpuid, without);
        if (pmu->count == 0)
            return;
        pmu_program(pmu, machine);
        silent = silent_roles(pmu, machine);
        without |= silent;
        if (without & (ROLE(PMU_LOAD_WALK) | ROLE(PMU_LOAD_MISS)))
            without |= NOT_PROVOKED;
    } while (silent);
    pmu_program(pmu, machine);
}

/* --- reading ---------------------------------------------------------------------------------- */

void pmu_read(const struct pmu *pmu, const struct pmu_machine *machine, uint64_t now,
              struct pmu_reading *reading)
{
    *reading = (struct pmu_reading){.time = now};
    for (unsigned i = 0; i < pmu->count; i++)
        reading->raw[i] = machine->read(machine->context, counter_msr(&pmu->counter[i]));
}

void pmu_between(const struct pmu *pmu, const struct pmu_reading *from,
                 const struct pmu_reading *to, struct pmu_counts *counts)
{
    uint64_t ticks = to->time - from->time;

    *counts = (struct pmu_counts){0};
    for (unsigned i = 0; i < pmu->count; i++) {
        const struct pmu_counter *c = &pmu->counter[i];
        uint64_t mask = ~0ull >> (WIDTH_MAX - c->width);
        if (ticks > mask / EVENTS_PER_TICK_MAX)
            continue;
        counts->value[c->event->role] = (to->raw[i] - from->raw[i]) & mask;
        counts->known |= ROLE(c->event->role);
    }
}

/* --- sums ------------------------------------------------------------------------------------- */

static struct pmu_sum sum_of(const struct pmu_counts *counts, uint32_t roles)
{
    struct pmu_sum sum = {0, counts->known & roles};

    for (unsigned role = 0; role < PMU_ROLES; role++) {
        if (sum.of & ROLE(role))
            sum.value += counts->value[role];
    }
    return sum;
}

struct pmu_sum pmu_walk_cycles(const struct pmu *pmu, const struct pmu_counts *counts)
{
    uint32_t ept = pmu->ept_apart ? ROLE(PMU_EPT_WALK) : 0;
    uint32_t needed = ROLE(PMU_LOAD_WALK) | ept;

    if ((counts->known & needed) != needed)
        return (struct pmu_sum){0};
    return sum_of(counts, needed | ROLE(PMU_STORE_WALK) | ROLE(PMU_FETCH_WALK));
}

struct pmu_sum pmu_tlb_misses(const struct pmu_counts *counts)
{
    if (!(counts->known & ROLE(PMU_LOAD_MISS)))
        return (struct pmu_sum){0};
    return sum_of(counts, ROLE(PMU_LOAD_MISS) | ROLE(PMU_STORE_MISS) | ROLE(PMU_FETCH_MISS));
}

const char *pmu_role_of(enum pmu_role role)
{
    switch (role) {
    case PMU_LOAD_WALK:
    case PMU_LOAD_MISS:
        return "loads";
    case PMU_STORE_WALK:
    case PMU_STORE_MISS:
        return "stores";
    case PMU_FETCH_WALK:
    case PMU_FETCH_MISS:
        return "fetches";
    case PMU_EPT_WALK:
        return "ept";
    default:
        return "";
    }
}
