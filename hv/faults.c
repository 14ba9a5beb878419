/* SPDX-License-Identifier: BSD-2-Clause */
/* See faults.h. Only part of builds with FAULTS. */
#include "hv/faults.h"

#include <string.h>

#include "hv/console.h"

static const struct fault_plan *plan;

static struct {
    uint32_t count, fails; /* allocations so far, and the one that fails */
} alloc;

/* A dry run: in each of its passes another question for a capability is answered with no. */
static struct {
    uint32_t pass;  /* from 1; 0: there is none */
    uint32_t asked; /* in this pass */
    const char *failed;
} dry;

void faults_plan_now(const struct fault_plan *the_plan)
{
    plan = the_plan;
    alloc.fails = the_plan->alloc;
}

void faults_arm_now(uint32_t fails)
{
    __atomic_store_n(&alloc.count, 0, __ATOMIC_RELAXED);
    alloc.fails = fails;
}

uint32_t faults_allocations_now(bool *came)
{
    uint32_t count = __atomic_load_n(&alloc.count, __ATOMIC_RELAXED);

    *came = alloc.fails != 0 && count >= alloc.fails;
    return count;
}

bool fault_alloc_now(uint64_t bytes)
{
    uint32_t number = __atomic_add_fetch(&alloc.count, 1, __ATOMIC_RELAXED);

    if (number != alloc.fails)
        return false;
    log_line("fault: allocation %u, of %llu KiB, finds no memory", number,
             (unsigned long long)bytes >> 10);
    return true;
}

bool fault_cpu_now(enum fault_cpu kind, unsigned index)
{
    return plan && index < 64 && (plan->cpu[kind] >> index & 1);
}

/* In the settings a name is one word. */
static bool is_called(const char *name, const char *word)
{
    for (; *name && *word; name++, word++) {
        char as_word = *name == ' ' || *name == '/' ? '-' : *name;
        if (as_word != *word)
            return false;
    }
    return *name == *word;
}

bool fault_capability_now(const char *name)
{
    if (dry.pass > 0) {
        if (++dry.asked != dry.pass)
            return false;
        dry.failed = name;
        return true;
    }
    for (uint32_t i = 0; plan && i < plan->capabilities; i++) {
        if (is_called(name, plan->capability[i])) {
            log_line("fault: no %s", name);
            return true;
        }
    }
    return false;
}

const char *faults_next_capability_now(bool first)
{
    const char *failed = dry.failed;

    dry.failed = NULL;
    dry.asked = 0;
    dry.pass = first ? 1 : failed ? dry.pass + 1 : 0;
    return failed;
}
