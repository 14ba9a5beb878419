/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See watchdog.h. Time alone proves nothing: a machine that is itself virtual may have stood still
 * as a whole. So it is not the age of a beat that counts but how often, with the same time between,
 * its processor was looked at and had not beaten.
 */
#include "hv/watchdog.h"

#include "hv/arch.h"
#include "hv/settings.h"

#define CACHE_LINE 64

static struct watched {
    uint64_t beats; /* written by its own processor; odd, or it rests */
    /* What it has seen of the next one; its own. */
    uint64_t look_at; /* TSC */
    uint64_t seen;
    unsigned missed; /* looks that have found no beat */
} __attribute__((aligned(CACHE_LINE))) watched[PROCESSORS_MAX];

static uint64_t between_looks; /* TSC ticks; 0: nobody looks. By the boot processor */
static unsigned limit;         /* seconds */

void watchdog_init(unsigned seconds)
{
    limit = seconds;
    __atomic_store_n(&between_looks, time_hz() * seconds / WATCHDOG_LOOKS, __ATOMIC_RELAXED);
}

void watchdog_beat(void)
{
    struct watched *own = &watched[processor_index()];

    __atomic_store_n(&own->beats, (own->beats + 1) | 1, __ATOMIC_RELAXED);
}

void watchdog_rest(void)
{
    struct watched *own = &watched[processor_index()];

    __atomic_store_n(&own->beats, (own->beats + 1) & ~1ull, __ATOMIC_RELAXED);
}

void watchdog_look(void)
{
    unsigned index = processor_index();
    struct watched *own = &watched[index];
    uint64_t between = __atomic_load_n(&between_looks, __ATOMIC_RELAXED);
    uint64_t now = time_now();

    if (between == 0 || now < own->look_at)
        return;
    unsigned next = (index + 1) % processor_count();
    if (next == index)
        return;
    uint64_t beats = __atomic_load_n(&watched[next].beats, __ATOMIC_RELAXED);
    bool rests = beats % 2 == 0;
    own->missed = beats == own->seen && !rests ? own->missed + 1 : 0;
    own->seen = beats;
    own->look_at = now + between;
    if (own->missed == WATCHDOG_LOOKS)
        panic("processor %u is stuck: it has got nowhere for %u s", next, limit);
}

uint64_t watchdog_period(void)
{
    uint64_t between = __atomic_load_n(&between_looks, __ATOMIC_RELAXED);

    return between > 0 ? between : ~0ull;
}
