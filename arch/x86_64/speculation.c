/* SPDX-License-Identifier: BSD-2-Clause */
/* See speculation.h. */
#include "arch/x86_64/speculation.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/*
 * Without IA32_ARCH_CAPABILITIES a processor says nothing of itself: all of family 6 are taken for
 * affected but these, by Intel's "Affected Processors" list. The Atoms from Goldmont on and the
 * Xeon Phis do not read the L1 cache by a terminal fault; of the buffers Silvermont, Airmont and
 * the Phis leak the store buffer.
 */
struct exempt {
    unsigned model;
    bool buffers; /* these leak nothing either */
};
static const struct exempt exempt_from_l1tf[] = {
    {0x37, false}, {0x4a, false}, {0x4d, false}, {0x5a, false}, {0x5d, false}, /* Silvermont */
    {0x4c, false}, {0x75, false},                                              /* Airmont */
    {0x57, false}, {0x85, false},                                              /* Xeon Phi */
    {0x5c, true},  {0x5f, true},  {0x7a, true},                                /* Goldmont, Plus */
    {0x86, true},  {0x8a, true},  {0x96, true},  {0x9c, true},                 /* Tremont */
};

static const struct exempt *find_exempt(const struct speculation_machine *m)
{
    for (size_t i = 0; i < COUNT(exempt_from_l1tf); i++) {
        if (m->family == 6 && exempt_from_l1tf[i].model == m->model)
            return &exempt_from_l1tf[i];
    }
    return NULL;
}

static bool can(const struct speculation_machine *m, uint64_t capability)
{
    return (m->capabilities & capability) != 0;
}

static bool has_msrs(const struct speculation_machine *m)
{
    return (m->edx7 & CPUID7_EDX_SPEC_CTRL) != 0;
}

/* --- branches --------------------------------------------------------------------------------- */

/*
 * Enhanced IBRS keeps a guest's predictions from the hypervisor's branches once it is on; but the
 * history that chooses among the hypervisor's own is shared (branch history injection), and the
 * first return after an exit may be predicted by the guest's (post-barrier RSB), where PBRSB_NO
 * does not deny it. Older processors forget at the moment at which IBRS is written, and keep the
 * return stack buffer even so. From one guest to another the barrier is needed in any case.
 */
static void decide_branches(const struct speculation_machine *m, struct speculation *s)
{
    if (!has_msrs(m)) {
        s->leaks |= LEAK_BRANCHES;
        return;
    }
    s->guards |= GUARD_IBPB;
    if (!can(m, CAPABILITY_IBRS_ALL)) {
        s->guards |= GUARD_IBRS_EXIT | GUARD_RSB_FULL;
        return;
    }
    s->guards |= GUARD_IBRS_ALWAYS;
    if (!can(m, CAPABILITY_PBRSB_NO))
        s->guards |= GUARD_RSB_ONE;
    if (m->edx72 & CPUID72_EDX_BHI_CTRL)
        s->guards |= GUARD_BHI;
    else if (!can(m, CAPABILITY_BHI_NO))
        s->guards |= GUARD_HISTORY;
}

/* --- data ------------------------------------------------------------------------------------- */

static bool leaks_l1d(const struct speculation_machine *m)
{
    return !can(m, CAPABILITY_RDCL_NO) && !find_exempt(m);
}

/* SKIP_L1DFL_VMENTRY is a hypervisor's beneath that flushes for all its guests. */
static void decide_l1d(const struct speculation_machine *m, struct speculation *s)
{
    if (!leaks_l1d(m) || can(m, CAPABILITY_SKIP_L1D))
        return;
    if (m->edx7 & CPUID7_EDX_L1D_FLUSH)
        s->guards |= GUARD_L1D;
    else
        s->leaks |= LEAK_L1D;
}

static bool leaks_fill_buffers(const struct speculation_machine *m)
{
    const struct exempt *exempt = find_exempt(m);

    return !can(m, CAPABILITY_MDS_NO) && !(exempt && exempt->buffers);
}

/*
 * MDS; TAA, by which processors with MDS_NO leak the same through transactions; RFDS, whose
 * RFDS_CLEAR says that the processor is affected and VERW is the cure. MMIO stale data needs none
 * of it: no guest reaches a device of the machine.
 */
static void decide_buffers(const struct speculation_machine *m, struct speculation *s)
{
    bool mds = leaks_fill_buffers(m);
    bool taa = m->transactions && !can(m, CAPABILITY_TAA_NO) && !mds;
    bool registers = can(m, CAPABILITY_RFDS_CLEAR) && !can(m, CAPABILITY_RFDS_NO);

    if (registers || ((mds || taa) && (m->edx7 & CPUID7_EDX_MD_CLEAR)))
        s->guards |= GUARD_BUFFERS;
    else if (mds || taa)
        s->leaks |= LEAK_BUFFERS;
    if (m->threads && (mds || taa || leaks_l1d(m)))
        s->leaks |= LEAK_THREADS;
}

struct speculation speculation_decide(const struct speculation_machine *machine)
{
    struct speculation s = {0, 0};

    decide_branches(machine, &s);
    decide_l1d(machine, &s);
    decide_buffers(machine, &s);
    return s;
}

uint32_t speculation_all_guards(const struct speculation_machine *machine)
{
    uint32_t guards = speculation_decide(machine).guards | GUARD_HISTORY | GUARD_RSB_FULL |
                      GUARD_RSB_ONE | GUARD_BUFFERS;

    if (has_msrs(machine))
        guards |= GUARD_IBPB | (guards & GUARD_IBRS_ALWAYS ? 0 : GUARD_IBRS_EXIT);
    if (machine->edx7 & CPUID7_EDX_L1D_FLUSH)
        guards |= GUARD_L1D;
    return guards;
}

/* --- names ------------------------------------------------------------------------------------ */

struct name {
    uint32_t bit;
    const char *text;
};

static const struct name guard_names[] = {
    {GUARD_IBRS_ALWAYS, "IBRS always on"},
    {GUARD_IBRS_EXIT, "IBRS at each exit"},
    {GUARD_BHI, "BHI_DIS_S"},
    {GUARD_HISTORY, "branch history overwritten"},
    {GUARD_RSB_FULL, "return stack filled"},
    {GUARD_RSB_ONE, "one call at each exit"},
    {GUARD_IBPB, "IBPB between VMs"},
    {GUARD_L1D, "L1D flush"},
    {GUARD_BUFFERS, "VERW before each entry"},
};

static const struct name leak_names[] = {
    {LEAK_BRANCHES, "branch targets"},
    {LEAK_L1D, "L1 data cache"},
    {LEAK_BUFFERS, "buffers"},
    {LEAK_THREADS, "hyper-threads"},
};

static void print_names(const struct name *names, size_t count, uint32_t bits, char *text,
                        size_t size)
{
    size_t used = 0;

    snprintf(text, size, "none");
    for (size_t i = 0; i < count && used < size; i++) {
        if (!(bits & names[i].bit))
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", names[i].text);
    }
}

void speculation_print_guards(uint32_t guards, char *text, size_t size)
{
    print_names(guard_names, COUNT(guard_names), guards, text, size);
}

void speculation_print_leaks(uint32_t leaks, char *text, size_t size)
{
    print_names(leak_names, COUNT(leak_names), leaks, text, size);
}
