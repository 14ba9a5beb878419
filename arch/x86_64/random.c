/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random numbers from the processor: RDSEED, else RDRAND (SDM 1 7.3.17). Where it has neither, the
 * TSC at the moment of asking is stirred into a state: the entropy device then says less than it
 * should, and a line of the log says so.
 */
#include "arch/x86_64/random.h"

#include "arch/x86_64/cpu.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"

#define TRIES 100u /* RDRAND has a number in 10 at the latest; RDSEED may run dry for longer */

bool random_of_processor(uint64_t *value)
{
    bool seeds = cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & CPUID7_EBX_RDSEED) &&
                 !fault_capability("RDSEED");
    bool random = (cpuid(1, 0).ecx & CPUID1_ECX_RDRAND) && !fault_capability("RDRAND");

    for (unsigned i = 0; seeds && i < TRIES; i++) {
        if (rdseed(value))
            return true;
        cpu_pause();
    }
    for (unsigned i = 0; random && i < TRIES; i++) {
        if (rdrand(value))
            return true;
    }
    return false;
}

uint64_t arch_random(void)
{
    static uint64_t state;
    static bool told;
    uint64_t value;

    if (random_of_processor(&value))
        return value;
    if (!told)
        log_line("random: no RDSEED or RDRAND; guests' entropy devices give what the TSC has");
    told = true;
    /* splitmix64's step and mix */
    uint64_t z = __atomic_add_fetch(&state, 0x9e3779b97f4a7c15ull + rdtsc(), __ATOMIC_RELAXED);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
