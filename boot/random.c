/* SPDX-License-Identifier: BSD-2-Clause */
/* Random numbers for the loader: RDSEED, else RDRAND (SDM 1 7.3.17), stirred with the TSC, which
 * alone has to do where the processor has neither. */
#include "arch/x86_64/cpu.h"
#include "boot/boot.h"

#define TRIES 100u

static uint64_t from_processor(void)
{
    BOOLEAN seeds = cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & CPUID7_EBX_RDSEED);
    BOOLEAN random = (cpuid(1, 0).ecx & CPUID1_ECX_RDRAND) != 0;
    uint64_t value;

    for (unsigned i = 0; i < TRIES; i++) {
        if ((seeds && rdseed(&value)) || (random && rdrand(&value)))
            return value;
    }
    return 0;
}

uint64_t loader_random(void)
{
    static uint64_t state;

    /* splitmix64's step and mix */
    state += 0x9e3779b97f4a7c15ull + rdtsc();
    uint64_t z = state ^ from_processor();
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
