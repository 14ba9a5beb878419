/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Performance counters: which events are chosen on which processor, what is written to MSRs in
 * which order, and what two readings tell. The model of the counters below counts only what the
 * manual says is enabled, and takes no MSR that CPUID does not announce.
 */
#include "hv/pmu.h"

#include <stdarg.h>
#include <string.h>

#include "hv/console.h"
#include "hv/pmu_text.h"
#include "tests/host/test.h"

#define GLOBAL_CTRL 0x38fu
#define FIXED_CTRL  0x38du
#define EVENTSEL0   0x186u
#define PMC0        0xc1u
#define FIXED_CTR0  0x309u

#define ROLE(role) (1u << (role))
#define BIT(n)     (1ull << (n))

/* --- processors ------------------------------------------------------------------------------- */

static uint32_t signature(uint32_t model)
{
    return (model >> 4) << 16 | 6u << 8 | (model & 0xf) << 4 | 3;
}

/* The architectural events' bits: 7 of them, all there. */
static uint32_t leaf_a_eax(unsigned version, unsigned generals, unsigned width)
{
    return 7u << 24 | width << 16 | generals << 8 | version;
}

static struct pmu_cpuid processor(uint32_t model, unsigned version, unsigned generals,
                                  unsigned fixed)
{
    struct pmu_cpuid cpuid = {
        .leaf_1.eax = signature(model),
        .leaf_a = {.eax = leaf_a_eax(version, generals, 48), .edx = fixed ? 48u << 5 | fixed : 0},
    };

    memcpy(&cpuid.leaf_0.ebx, "Genu", 4);
    memcpy(&cpuid.leaf_0.edx, "ineI", 4);
    memcpy(&cpuid.leaf_0.ecx, "ntel", 4);
    return cpuid;
}

/* --- a model of the counters ------------------------------------------------------------------ */

#define GENERALS_MODEL 8u
#define FIXED_MODEL    3u
#define LOG_MAX        256u

struct machine {
    unsigned version, generals, fixed;
    uint64_t width_mask;
    uint64_t select[GENERALS_MODEL], general[GENERALS_MODEL], fixed_count[FIXED_MODEL];
    uint64_t fixed_ctrl, global;
    bool absent[PMU_ROLES]; /* events that a hypervisor beneath keeps at 0 */
    struct pmu_msr log[LOG_MAX];
    unsigned logged, strange;
};

static uint64_t *msr_of(struct machine *m, uint32_t msr)
{
    if (msr >= PMC0 && msr < PMC0 + m->generals)
        return &m->general[msr - PMC0];
    if (msr >= EVENTSEL0 && msr < EVENTSEL0 + m->generals)
        return &m->select[msr - EVENTSEL0];
    if (m->version >= 2 && msr >= FIXED_CTR0 && msr < FIXED_CTR0 + m->fixed)
        return &m->fixed_count[msr - FIXED_CTR0];
    if (m->version >= 2 && m->fixed > 0 && msr == FIXED_CTRL)
        return &m->fixed_ctrl;
    if (m->version >= 2 && msr == GLOBAL_CTRL)
        return &m->global;
    m->strange++; /* #GP on a processor */
    return NULL;
}

static uint64_t machine_read(void *context, uint32_t msr)
{
    uint64_t *at = msr_of(context, msr);

    return at ? *at : 0;
}

static void machine_write(void *context, uint32_t msr, uint64_t value)
{
    struct machine *m = context;
    uint64_t *at = msr_of(m, msr);

    if (m->logged < LOG_MAX)
        m->log[m->logged++] = (struct pmu_msr){msr, value};
    if (msr >= PMC0 && msr < PMC0 + GENERALS_MODEL && value > INT32_MAX)
        m->strange++; /* 32 bits, sign-extended */
    if (at)
        *at = value;
}

/* `count` of the event `select`, `umask` happen. */
static void happen(struct machine *m, unsigned select, unsigned umask, uint64_t count)
{
    for (unsigned i = 0; i < m->generals; i++) {
        bool enabled = (m->select[i] & BIT(22)) && (m->version < 2 || (m->global >> i & 1));
        bool rings = (m->select[i] >> 16 & 3) == 3;
        if (enabled && rings && (m->select[i] & 0xffff) == (umask << 8 | select))
            m->general[i] = (m->general[i] + count) & m->width_mask;
    }
}

static void happen_fixed(struct machine *m, unsigned index, uint64_t count)
{
    if (index < m->fixed && (m->fixed_ctrl >> 4 * index & 0xf) == 3 &&
        (m->global >> (32 + index) & 1))
        m->fixed_count[index] = (m->fixed_count[index] + count) & m->width_mask;
}

/* Haswell's and Skylake's loads and stores; the architectural events. */
static void machine_provoke(void *context)
{
    struct machine *m = context;
    static const struct {
        enum pmu_role role;
        unsigned select, umask;
    } events[] = {
        {PMU_INSTRUCTIONS, 0xc0, 0},  {PMU_CYCLES, 0x3c, 0},       {PMU_LOAD_WALK, 0x08, 0x10},
        {PMU_STORE_WALK, 0x49, 0x10}, {PMU_LOAD_MISS, 0x08, 0x0e}, {PMU_STORE_MISS, 0x49, 0x0e},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        if (!m->absent[events[i].role])
            happen(m, events[i].select, events[i].umask, 100 + i);
    }
    for (unsigned i = 0; i < FIXED_MODEL; i++) {
        if (!m->absent[PMU_INSTRUCTIONS + i])
            happen_fixed(m, i, 1000 + i);
    }
}

static struct machine machine_of(const struct pmu_cpuid *cpuid)
{
    return (struct machine){
        .version = cpuid->leaf_a.eax & 0xff,
        .generals = cpuid->leaf_a.eax >> 8 & 0xff,
        .fixed = cpuid->leaf_a.edx & 0x1f,
        .width_mask = BIT(cpuid->leaf_a.eax >> 16 & 0xff) - 1,
    };
}

static struct pmu_machine interface_of(struct machine *m)
{
    return (struct pmu_machine){m, machine_read, machine_write, machine_provoke};
}

/* --- what is looked at ------------------------------------------------------------------------ */

static const struct pmu_counter *counter_of(const struct pmu *pmu, enum pmu_role role)
{
    for (unsigned i = 0; i < pmu->count; i++) {
        if (pmu->counter[i].event->role == role)
            return &pmu->counter[i];
    }
    return NULL;
}

static uint32_t roles_of(const struct pmu *pmu)
{
    uint32_t roles = 0;

    for (unsigned i = 0; i < pmu->count; i++)
        roles |= ROLE(pmu->counter[i].event->role);
    return roles;
}

/* No counter twice, none that is not there, no role twice. */
static void check_sound(const struct pmu *pmu, unsigned generals, unsigned fixed)
{
    uint64_t seen = 0;

    for (unsigned i = 0; i < pmu->count; i++) {
        const struct pmu_counter *c = &pmu->counter[i];
        uint64_t bit = BIT(c->index + (c->fixed ? 32 : 0));
        CHECK(!(seen & bit), "counter %u is used twice", c->index);
        CHECK(c->index < (c->fixed ? fixed : generals), "there is no counter %u", c->index);
        seen |= bit;
    }
    CHECK((unsigned)__builtin_popcount(roles_of(pmu)) == pmu->count, "a role twice");
}

static uint64_t role_value(const struct pmu_counts *counts, enum pmu_role role)
{
    return counts->known & ROLE(role) ? counts->value[role] : ~0ull;
}

/* --- the choice ------------------------------------------------------------------------------- */

#define ARCHITECTURAL (ROLE(PMU_INSTRUCTIONS) | ROLE(PMU_CYCLES) | ROLE(PMU_REFERENCE_CYCLES))
#define LOADS_STORES                                                                               \
    (ROLE(PMU_LOAD_WALK) | ROLE(PMU_LOAD_MISS) | ROLE(PMU_STORE_WALK) | ROLE(PMU_STORE_MISS))
#define FETCHES (ROLE(PMU_FETCH_WALK) | ROLE(PMU_FETCH_MISS))

/* Written down apart from the table in pmu.c: the events of each model that the files give. */
static const struct {
    uint32_t model;
    const char *name;
    uint32_t load_walk, load_miss, store_walk, store_miss; /* unit mask, select */
    uint32_t four, eight; /* roles that 4 and 8 general counters count, beside the fixed ones */
} expected[] = {
#define SNB                                                                                        \
    "Sandy Bridge", 0x0408, 0x0208, 0x0449, 0x0249, LOADS_STORES,                                  \
        LOADS_STORES | FETCHES | ROLE(PMU_EPT_WALK)
#define IVB                                                                                        \
    "Ivy Bridge", 0x8408, 0x8208, 0x0449, 0x0249, LOADS_STORES,                                    \
        LOADS_STORES | FETCHES | ROLE(PMU_EPT_WALK)
#define HSW(name)                                                                                  \
    name, 0x1008, 0x0e08, 0x1049, 0x0e49, LOADS_STORES, LOADS_STORES | FETCHES | ROLE(PMU_EPT_WALK)
#define SKL                                                                                        \
    "Skylake", 0x1008, 0x0e08, 0x1049, 0x0e49,                                                     \
        ROLE(PMU_LOAD_WALK) | ROLE(PMU_EPT_WALK) | ROLE(PMU_LOAD_MISS) | ROLE(PMU_STORE_WALK),     \
        LOADS_STORES | FETCHES | ROLE(PMU_EPT_WALK)
#define ICL(name) name, 0x1008, 0x0e08, 0x1049, 0x0e49, LOADS_STORES, LOADS_STORES
#define GLC       "Golden Cove", 0x1012, 0x0e12, 0x1013, 0x0e13, LOADS_STORES, LOADS_STORES
    {0x2a, SNB},
    {0x2d, SNB},
    {0x3a, IVB},
    {0x3e, IVB},
    {0x3c, HSW("Haswell")},
    {0x3f, HSW("Haswell")},
    {0x45, HSW("Haswell")},
    {0x46, HSW("Haswell")},
    {0x3d, HSW("Broadwell")},
    {0x47, HSW("Broadwell")},
    {0x4f, HSW("Broadwell")},
    {0x56, HSW("Broadwell")},
    {0x4e, SKL},
    {0x5e, SKL},
    {0x55, SKL},
    {0x8e, SKL},
    {0x9e, SKL},
    {0xa5, SKL},
    {0xa6, SKL},
    {0x7d, ICL("Ice Lake")},
    {0x7e, ICL("Ice Lake")},
    {0x6a, ICL("Ice Lake")},
    {0x6c, ICL("Ice Lake")},
    {0x8c, ICL("Tiger Lake")},
    {0x8d, ICL("Tiger Lake")},
    {0xa7, ICL("Rocket Lake")},
    {0x97, GLC},
    {0x9a, GLC},
    {0xb7, GLC},
    {0xba, GLC},
    {0xbf, GLC},
    {0x8f, GLC},
    {0xcf, GLC},
};

static void check_code(const struct pmu *pmu, enum pmu_role role, uint32_t code, uint32_t model)
{
    const struct pmu_counter *c = counter_of(pmu, role);
    uint32_t is = c ? (uint32_t)c->event->umask << 8 | c->event->select : 0;

    CHECK(!c || is == code, "model 0x%x, role %u: 0x%04x", model, role, is);
}

static void each_model_has_its_events(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        for (unsigned generals = 4; generals <= 8; generals += 4) {
            struct pmu_cpuid cpuid = processor(expected[i].model, 4, generals, 3);
            uint32_t want = generals == 4 ? expected[i].four : expected[i].eight;
            struct pmu pmu;
            pmu_choose(&pmu, &cpuid, 0);
            check_sound(&pmu, generals, 3);
            CHECK(pmu.model && strcmp(pmu.model, expected[i].name) == 0, "model 0x%x is %s",
                  expected[i].model, pmu.model ? pmu.model : "unknown");
            CHECK(roles_of(&pmu) == (want | ARCHITECTURAL), "model 0x%x, %u counters: roles 0x%x",
                  expected[i].model, generals, roles_of(&pmu));
            check_code(&pmu, PMU_LOAD_WALK, expected[i].load_walk, expected[i].model);
            check_code(&pmu, PMU_LOAD_MISS, expected[i].load_miss, expected[i].model);
            check_code(&pmu, PMU_STORE_WALK, expected[i].store_walk, expected[i].model);
            check_code(&pmu, PMU_STORE_MISS, expected[i].store_miss, expected[i].model);
            check_code(&pmu, PMU_EPT_WALK, 0x104f, expected[i].model);
        }
    }
}

static void unknown_models_have_architectural_events_alone(void)
{
    static const uint32_t models[] = {0x1a, 0x2c, 0x5c, 0x7a, 0x86, 0xbe, 0xff, 0x00};

    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        struct pmu_cpuid cpuid = processor(models[i], 4, 4, 3);
        struct pmu pmu;
        pmu_choose(&pmu, &cpuid, 0);
        check_sound(&pmu, 4, 3);
        CHECK(!pmu.model && roles_of(&pmu) == ARCHITECTURAL, "model 0x%x: roles 0x%x", models[i],
              roles_of(&pmu));
        for (unsigned c = 0; c < pmu.count; c++)
            CHECK(pmu.counter[c].fixed, "by a general counter, with fixed ones there");
    }
    /* Family 15 with a model number of family 6. */
    struct pmu_cpuid cpuid = processor(0x5e, 4, 4, 3);
    struct pmu pmu;
    cpuid.leaf_1.eax |= 0xf00;
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(!pmu.model, "family 15 is taken for Skylake");
}

static void efficiency_cores_have_architectural_events_alone(void)
{
    struct pmu_cpuid cpuid = processor(0x97, 5, 6, 3);
    struct pmu pmu;

    cpuid.leaf_7.edx = (uint32_t)BIT(15);
    cpuid.leaf_1a.eax = 0x20000001;
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(roles_of(&pmu) == ARCHITECTURAL, "an efficiency core: roles 0x%x", roles_of(&pmu));
    cpuid.leaf_1a.eax = 0x40000001;
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(roles_of(&pmu) == (ARCHITECTURAL | LOADS_STORES), "a performance core: roles 0x%x",
          roles_of(&pmu));
}

/* --- leaf 0xa --------------------------------------------------------------------------------- */

static void without_a_pmu_it_says_so(void)
{
    struct pmu_cpuid none = processor(0x5e, 0, 0, 0), empty = processor(0x5e, 2, 0, 0),
                     amd = processor(0x5e, 4, 4, 3);
    struct pmu pmu;

    none.leaf_a = (struct pmu_leaf){0};
    pmu_choose(&pmu, &none, 0);
    CHECK(pmu.count == 0 && strstr(pmu.why.text, "CPUID leaf 0xa: version 0"), "%s", pmu.why.text);
    pmu_choose(&pmu, &empty, 0);
    CHECK(pmu.count == 0 && strstr(pmu.why.text, "no counters"), "%s", pmu.why.text);
    memcpy(&amd.leaf_0.ebx, "Auth", 4);
    pmu_choose(&pmu, &amd, 0);
    CHECK(pmu.count == 0 && pmu.version == 0 && strstr(pmu.why.text, "not Intel"), "%s",
          pmu.why.text);
}

/* Without a PMU no MSR is touched. */
static void without_a_pmu_nothing_is_written(void)
{
    struct pmu_cpuid none = processor(0x5e, 0, 0, 0);
    struct machine m = {0};
    struct pmu_machine interface = interface_of(&m);
    struct pmu_writes writes;
    struct pmu pmu;

    pmu_init(&pmu, &none, &interface);
    pmu_switch(&pmu, true, &writes);
    CHECK(pmu.count == 0 && m.logged == 0 && m.strange == 0 && writes.count == 0,
          "%u writes, %u of MSRs that are not there", m.logged, m.strange);
}

static void version_1_has_no_fixed_counters(void)
{
    struct pmu_cpuid cpuid = processor(0x0e, 1, 2, 3); /* EDX means nothing there */
    struct pmu pmu;

    pmu_choose(&pmu, &cpuid, 0);
    check_sound(&pmu, 2, 0);
    CHECK(roles_of(&pmu) == (ROLE(PMU_INSTRUCTIONS) | ROLE(PMU_CYCLES)), "roles 0x%x",
          roles_of(&pmu));
}

/* Version 5 may have holes: fixed counter 1 alone, by ECX. */
static void version_5_has_a_bitmap_of_fixed_counters(void)
{
    struct pmu_cpuid cpuid = processor(0xff, 5, 0, 0);
    struct pmu pmu;

    cpuid.leaf_a.ecx = 2;
    cpuid.leaf_a.edx = 48u << 5;
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(pmu.count == 1 && pmu.counter[0].fixed && pmu.counter[0].index == 1 &&
              pmu.counter[0].event->role == PMU_CYCLES,
          "%u counters", pmu.count);
    cpuid.leaf_a.eax = leaf_a_eax(4, 0, 48); /* before version 5 ECX means nothing */
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(pmu.count == 0, "%u counters", pmu.count);
    cpuid = processor(0xff, 5, 0, 2); /* EDX alone is enough */
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(pmu.count == 2, "%u counters", pmu.count);
}

/* Events that EBX denies, or that its length leaves out, are not counted by general counters. */
static void architectural_events_may_be_missing(void)
{
    struct pmu_cpuid cpuid = processor(0xff, 2, 4, 0);
    struct pmu pmu;

    pmu_choose(&pmu, &cpuid, 0);
    CHECK(roles_of(&pmu) == (ROLE(PMU_INSTRUCTIONS) | ROLE(PMU_CYCLES)), "roles 0x%x",
          roles_of(&pmu));
    cpuid.leaf_a.ebx = 2;
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(roles_of(&pmu) == ROLE(PMU_CYCLES), "without bit 1: roles 0x%x", roles_of(&pmu));
    cpuid.leaf_a.ebx = 0;
    cpuid.leaf_a.eax = (cpuid.leaf_a.eax & 0xffffff) | 1u << 24;
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(roles_of(&pmu) == ROLE(PMU_CYCLES), "a vector of 1 bit: roles 0x%x", roles_of(&pmu));
}

static void few_or_many_counters(void)
{
    for (unsigned generals = 0; generals <= 255; generals++) {
        for (unsigned fixed = 0; fixed <= 31; fixed++) {
            struct pmu_cpuid cpuid = processor(0x3c, 4, generals, fixed);
            struct pmu pmu;
            pmu_choose(&pmu, &cpuid, 0);
            check_sound(&pmu, generals, fixed);
            CHECK(pmu.count <= PMU_COUNTERS_MAX, "%u counters", pmu.count);
            CHECK((pmu.count == 0) == (generals + fixed == 0), "%u general, %u fixed: %u used",
                  generals, fixed, pmu.count);
        }
    }
    struct pmu_cpuid cpuid = processor(0x5e, 4, 1, 0);
    struct pmu pmu;
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(roles_of(&pmu) == ROLE(PMU_LOAD_WALK), "one counter: roles 0x%x", roles_of(&pmu));
    cpuid.leaf_a.eax = leaf_a_eax(4, 4, 200);
    pmu_choose(&pmu, &cpuid, 0);
    CHECK(pmu.count == 0, "counters of 200 bits are trusted");
}

/* --- MSRs ------------------------------------------------------------------------------------- */

static const struct pmu_msr *last_write(const struct machine *m, uint32_t msr)
{
    const struct pmu_msr *found = NULL;

    for (unsigned i = 0; i < m->logged; i++) {
        if (m->log[i].msr == msr)
            found = &m->log[i];
    }
    return found;
}

/* The firmware's counters run: they stand still before anything else is written. */
static void counters_stand_still_before_they_are_changed(void)
{
    struct pmu_cpuid cpuid = processor(0x3c, 4, 4, 3);
    struct machine m = machine_of(&cpuid);
    struct pmu_machine interface = interface_of(&m);
    struct pmu pmu;

    m.global = 0x70000000full;
    m.select[3] = BIT(22) | BIT(20) | 0x3c; /* with an interrupt */
    pmu_init(&pmu, &cpuid, &interface);
    CHECK(m.logged > 0 && m.log[0].msr == GLOBAL_CTRL && m.log[0].value == 0, "first is MSR 0x%x",
          m.logged ? m.log[0].msr : 0);
    CHECK(m.strange == 0, "%u accesses that a processor would not take", m.strange);
    CHECK(m.global == 0, "they run when all is set up: 0x%llx", (unsigned long long)m.global);
    CHECK(m.fixed_ctrl == 0x333, "fixed counters: 0x%llx", (unsigned long long)m.fixed_ctrl);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(!(m.select[i] & BIT(20)), "counter %u interrupts", i);
        CHECK(m.general[i] == 0, "counter %u starts at %llu", i, (unsigned long long)m.general[i]);
    }
    const struct pmu_msr *write = last_write(&m, EVENTSEL0);
    CHECK(write && write->value == (BIT(22) | 3ull << 16 | 0x1008), "IA32_PERFEVTSEL0: 0x%llx",
          write ? (unsigned long long)write->value : 0);
}

static void entry_and_exit_write_one_msr(void)
{
    struct pmu_cpuid cpuid = processor(0x3c, 4, 4, 3);
    struct pmu_writes writes;
    struct pmu pmu;

    pmu_choose(&pmu, &cpuid, 0);
    pmu_switch(&pmu, true, &writes);
    CHECK(writes.count == 1 && writes.write[0].msr == GLOBAL_CTRL &&
              writes.write[0].value == 0x70000000full,
          "%u writes, value 0x%llx", writes.count, (unsigned long long)writes.write[0].value);
    pmu_switch(&pmu, false, &writes);
    CHECK(writes.count == 1 && writes.write[0].value == 0, "%u writes", writes.count);
}

static void version_1_enables_each_counter(void)
{
    struct pmu_cpuid cpuid = processor(0x0e, 1, 2, 0);
    struct machine m = machine_of(&cpuid);
    struct pmu_machine interface = interface_of(&m);
    struct pmu_writes writes;
    struct pmu pmu;

    pmu_init(&pmu, &cpuid, &interface);
    CHECK(m.strange == 0 && pmu.count == 2, "%u counters, %u strange accesses", pmu.count,
          m.strange);
    CHECK(!(m.select[0] & BIT(22)) && !(m.select[1] & BIT(22)), "they run");
    pmu_switch(&pmu, true, &writes);
    CHECK(writes.count == 2 && writes.write[0].msr == EVENTSEL0 &&
              writes.write[0].value == (BIT(22) | 3ull << 16 | 0xc0) &&
              writes.write[1].msr == EVENTSEL0 + 1 &&
              writes.write[1].value == (BIT(22) | 3ull << 16 | 0x3c),
          "%u writes", writes.count);
    pmu_switch(&pmu, false, &writes);
    CHECK(writes.count == 2 && !(writes.write[0].value & BIT(22)), "%u writes", writes.count);
}

/* What is silent is left out, and its counter goes to the next event. */
static void events_that_do_not_count_are_left_out(void)
{
    struct pmu_cpuid cpuid = processor(0x5e, 2, 4, 3);
    struct machine m = machine_of(&cpuid);
    struct pmu_machine interface = interface_of(&m);
    struct pmu pmu;

    m.absent[PMU_STORE_WALK] = m.absent[PMU_REFERENCE_CYCLES] = true;
    pmu_init(&pmu, &cpuid, &interface);
    check_sound(&pmu, 4, 3);
    CHECK(roles_of(&pmu) == (ROLE(PMU_INSTRUCTIONS) | ROLE(PMU_CYCLES) | ROLE(PMU_LOAD_WALK) |
                             ROLE(PMU_EPT_WALK) | ROLE(PMU_LOAD_MISS) | ROLE(PMU_STORE_MISS)),
          "roles 0x%x", roles_of(&pmu));
    CHECK(m.fixed_ctrl == 0x033, "fixed counters: 0x%llx", (unsigned long long)m.fixed_ctrl);
    CHECK(m.strange == 0 && m.global == 0, "%u strange accesses", m.strange);
}

/* A hypervisor beneath that offers counters and architectural events, but none of the model's. */
static void silent_walk_events_take_those_of_ept_with_them(void)
{
    struct pmu_cpuid cpuid = processor(0x5e, 2, 4, 3);
    struct machine m = machine_of(&cpuid);
    struct pmu_machine interface = interface_of(&m);
    struct pmu pmu;

    for (unsigned role = PMU_LOAD_WALK; role < PMU_ROLES; role++)
        m.absent[role] = true;
    pmu_init(&pmu, &cpuid, &interface);
    CHECK(roles_of(&pmu) == ARCHITECTURAL, "roles 0x%x", roles_of(&pmu));
}

static void counters_that_never_count_are_no_pmu(void)
{
    struct pmu_cpuid cpuid = processor(0x5e, 2, 4, 3);
    struct machine m = machine_of(&cpuid);
    struct pmu_machine interface = interface_of(&m);
    struct pmu pmu;

    memset(m.absent, true, sizeof(m.absent));
    pmu_init(&pmu, &cpuid, &interface);
    CHECK(pmu.count == 0 &&
              strstr(pmu.why.text, "version 2, 4 general and 3 fixed counters, but none counts"),
          "%u counters: %s", pmu.count, pmu.why.text);
    CHECK(m.global == 0, "they run: 0x%llx", (unsigned long long)m.global);
}

/* --- readings --------------------------------------------------------------------------------- */

static void happenings_between_readings_are_counted(void)
{
    struct pmu_cpuid cpuid = processor(0x3c, 4, 4, 3);
    struct machine m = machine_of(&cpuid);
    struct pmu_machine interface = interface_of(&m);
    struct pmu_reading from, to;
    struct pmu_counts counts;
    struct pmu_writes writes;
    struct pmu pmu;

    pmu_init(&pmu, &cpuid, &interface);
    pmu_read(&pmu, &interface, 1000, &from);
    happen(&m, 0x08, 0x10, 555); /* not while a guest runs: not counted */
    pmu_switch(&pmu, true, &writes);
    machine_write(&m, writes.write[0].msr, writes.write[0].value);
    happen(&m, 0x08, 0x10, 77);
    happen(&m, 0x49, 0x10, 7);
    happen(&m, 0x08, 0x0e, 3);
    happen_fixed(&m, 0, 12345);
    pmu_switch(&pmu, false, &writes);
    machine_write(&m, writes.write[0].msr, writes.write[0].value);
    happen(&m, 0x49, 0x10, 555);
    pmu_read(&pmu, &interface, 2000, &to);
    pmu_between(&pmu, &from, &to, &counts);
    CHECK(role_value(&counts, PMU_LOAD_WALK) == 77 && role_value(&counts, PMU_STORE_WALK) == 7 &&
              role_value(&counts, PMU_LOAD_MISS) == 3 && role_value(&counts, PMU_STORE_MISS) == 0 &&
              role_value(&counts, PMU_INSTRUCTIONS) == 12345 &&
              role_value(&counts, PMU_CYCLES) == 0,
          "walks of loads %llu", (unsigned long long)role_value(&counts, PMU_LOAD_WALK));
    CHECK(!(counts.known & FETCHES), "fetches were not counted: 0x%x", counts.known);

    struct pmu_sum walks = pmu_walk_cycles(&pmu, &counts), misses = pmu_tlb_misses(&counts);
    CHECK(walks.value == 84 && walks.of == (ROLE(PMU_LOAD_WALK) | ROLE(PMU_STORE_WALK)),
          "%llu of 0x%x", (unsigned long long)walks.value, walks.of);
    CHECK(misses.value == 3 && misses.of == (ROLE(PMU_LOAD_MISS) | ROLE(PMU_STORE_MISS)),
          "%llu of 0x%x", (unsigned long long)misses.value, misses.of);
}

/* On Skylake EPT's part stands apart: a sum without it would be none of walk cycles. */
static void skylakes_walk_cycles_need_ept(void)
{
    struct pmu_cpuid skylake = processor(0x5e, 4, 8, 3), haswell = processor(0x3c, 4, 8, 3);
    struct pmu_counts counts = {
        .value = {[PMU_LOAD_WALK] = 10, [PMU_STORE_WALK] = 20, [PMU_EPT_WALK] = 400},
        .known = ROLE(PMU_LOAD_WALK) | ROLE(PMU_STORE_WALK) | ROLE(PMU_EPT_WALK),
    };
    struct pmu pmu;

    pmu_choose(&pmu, &skylake, 0);
    CHECK(pmu_walk_cycles(&pmu, &counts).value == 430, "Skylake: %llu",
          (unsigned long long)pmu_walk_cycles(&pmu, &counts).value);
    counts.known &= ~ROLE(PMU_EPT_WALK);
    CHECK(pmu_walk_cycles(&pmu, &counts).of == 0, "Skylake without EPT: 0x%x",
          pmu_walk_cycles(&pmu, &counts).of);
    pmu_choose(&pmu, &haswell, 0);
    counts.known |= ROLE(PMU_EPT_WALK);
    CHECK(pmu_walk_cycles(&pmu, &counts).value == 30, "Haswell: %llu",
          (unsigned long long)pmu_walk_cycles(&pmu, &counts).value);
    counts.known &= ~ROLE(PMU_LOAD_WALK);
    CHECK(pmu_walk_cycles(&pmu, &counts).of == 0, "without loads: 0x%x",
          pmu_walk_cycles(&pmu, &counts).of);
    CHECK(pmu_tlb_misses(&counts).of == 0, "misses that were not counted");
}

static void counters_may_wrap_once(void)
{
    for (unsigned width = 40; width <= 48; width++) {
        struct pmu_cpuid cpuid = processor(0xff, 2, 0, 1);
        struct pmu_reading from = {.time = 5}, to = {.time = 1000005};
        uint64_t mask = BIT(width) - 1, state = width;
        struct pmu_counts counts;
        struct pmu pmu;
        cpuid.leaf_a.edx = width << 5 | 1;
        pmu_choose(&pmu, &cpuid, 0);
        for (unsigned i = 0; i < 1000; i++) {
            uint64_t passed = test_random(&state) & mask;
            from.raw[0] = test_random(&state) & mask;
            to.raw[0] = (from.raw[0] + passed) & mask;
            pmu_between(&pmu, &from, &to, &counts);
            CHECK(role_value(&counts, PMU_INSTRUCTIONS) == passed, "width %u: %llu, not %llu",
                  width, (unsigned long long)role_value(&counts, PMU_INSTRUCTIONS),
                  (unsigned long long)passed);
        }
        to.time = from.time + BIT(width - 4) - 1;
        pmu_between(&pmu, &from, &to, &counts);
        CHECK(counts.known, "width %u: not known, though it cannot have wrapped twice", width);
        to.time = from.time + BIT(width - 4);
        pmu_between(&pmu, &from, &to, &counts);
        CHECK(!counts.known, "width %u: known, though it may have wrapped twice", width);
    }
}

/* --- text ------------------------------------------------------------------------------------- */

static char console[4096];

void console_printf(const char *format, ...)
{
    size_t length = strlen(console);
    va_list args;

    va_start(args, format);
    vsnprintf(console + length, sizeof(console) - length, format, args);
    va_end(args);
}

static const char *fields_of(const struct pmu *pmu, const struct pmu_counts *counts)
{
    console[0] = '\0';
    pmu_print_fields(pmu, counts);
    return console;
}

static void fields_tell_what_was_counted(void)
{
    struct pmu_cpuid skylake = processor(0x5e, 4, 4, 2), none = processor(0x5e, 0, 0, 0);
    struct pmu_counts counts = {
        .value = {[PMU_INSTRUCTIONS] = 5,
                  [PMU_CYCLES] = 18446744073709551615ull,
                  [PMU_LOAD_WALK] = 10,
                  [PMU_STORE_WALK] = 20,
                  [PMU_EPT_WALK] = 400,
                  [PMU_LOAD_MISS] = 7},
        .known = ROLE(PMU_INSTRUCTIONS) | ROLE(PMU_CYCLES) | ROLE(PMU_LOAD_WALK) |
                 ROLE(PMU_STORE_WALK) | ROLE(PMU_EPT_WALK) | ROLE(PMU_LOAD_MISS),
    };
    struct pmu pmu;

    pmu_choose(&pmu, &skylake, 0);
    CHECK(strcmp(fields_of(&pmu, &counts),
                 "\"pmu\": {\"instructions\": 5, \"cycles\": 18446744073709551615, "
                 "\"reference_cycles\": null, \"walk_cycles\": 430, "
                 "\"walk_cycles_of\": \"loads+stores+ept\", \"ept_walk_cycles\": 400, "
                 "\"tlb_misses\": 7, \"tlb_misses_of\": \"loads\", \"events\": {"
                 "\"INST_RETIRED.ANY\": 5, \"CPU_CLK_UNHALTED.THREAD\": 18446744073709551615, "
                 "\"DTLB_LOAD_MISSES.WALK_PENDING\": 10, \"EPT.WALK_PENDING\": 400, "
                 "\"DTLB_LOAD_MISSES.WALK_COMPLETED\": 7, "
                 "\"DTLB_STORE_MISSES.WALK_PENDING\": 20}}, \"pmu_reason\": null") == 0,
          "%s", console);
    counts.known &= ~ROLE(PMU_EPT_WALK);
    CHECK(strstr(fields_of(&pmu, &counts), "\"walk_cycles\": null, \"walk_cycles_of\": null, "
                                           "\"ept_walk_cycles\": null"),
          "%s", console);
    pmu_choose(&pmu, &none, 0);
    CHECK(
        strcmp(fields_of(&pmu, &counts),
               "\"pmu\": null, \"pmu_reason\": \"not available on this processor (CPUID leaf 0xa: "
               "version 0)\"") == 0,
        "%s", console);
}

static size_t longest_line(const char *text)
{
    size_t longest = 0;

    while (*text) {
        size_t length = strcspn(text, "\n");
        longest = length > longest ? length : longest;
        text += length + (text[length] == '\n');
    }
    return longest;
}

static void the_table_is_100_columns_wide(void)
{
    struct pmu_cpuid cpuid = processor(0x3c, 4, 8, 3);
    struct pmu_counts counts = {
        .value = {[PMU_INSTRUCTIONS] = 199999,
                  [PMU_CYCLES] = ~0ull >> 16,
                  [PMU_LOAD_WALK] = 1004,
                  [PMU_LOAD_MISS] = 1},
        .known =
            ROLE(PMU_INSTRUCTIONS) | ROLE(PMU_CYCLES) | ROLE(PMU_LOAD_WALK) | ROLE(PMU_LOAD_MISS),
    };
    struct pmu pmu;

    pmu_choose(&pmu, &cpuid, 0);
    console[0] = '\0';
    pmu_print_head("benchmark           phase  paging   ept");
    pmu_print_row(&pmu, &counts, "touch               steady nested   4k", 1000);
    counts.known &= ~ROLE(PMU_CYCLES);
    pmu_print_row(&pmu, &counts, "touch               steady nested   4k", 0);
    pmu_print_events(&pmu);
    CHECK(longest_line(console) <= 100, "%zu columns:\n%s", longest_line(console), console);
    CHECK(strstr(console, "4k          200.00 281474976710.66           1.00           0.00\n"),
          "%s", console);
    CHECK(strstr(console, "4k               -              -              -              -\n"),
          "%s", console);
}

int main(void)
{
    RUN(each_model_has_its_events);
    RUN(unknown_models_have_architectural_events_alone);
    RUN(efficiency_cores_have_architectural_events_alone);
    RUN(without_a_pmu_it_says_so);
    RUN(without_a_pmu_nothing_is_written);
    RUN(version_1_has_no_fixed_counters);
    RUN(version_5_has_a_bitmap_of_fixed_counters);
    RUN(architectural_events_may_be_missing);
    RUN(few_or_many_counters);
    RUN(counters_stand_still_before_they_are_changed);
    RUN(entry_and_exit_write_one_msr);
    RUN(version_1_enables_each_counter);
    RUN(events_that_do_not_count_are_left_out);
    RUN(silent_walk_events_take_those_of_ept_with_them);
    RUN(counters_that_never_count_are_no_pmu);
    RUN(happenings_between_readings_are_counted);
    RUN(skylakes_walk_cycles_need_ept);
    RUN(counters_may_wrap_once);
    RUN(fields_tell_what_was_counted);
    RUN(the_table_is_100_columns_wide);
    return test_status();
}
