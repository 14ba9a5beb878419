/* SPDX-License-Identifier: BSD-2-Clause */
/* See lock.h. */
#include "hv/lock.h"

#include "hv/arch.h"
#include "hv/watchdog.h"

/* Longer than any holder needs, the writer of a long report at a slow UART included. */
#define STUCK_SECONDS 120u

void lock_wait(const struct lock *lock, uint32_t ticket)
{
    uint32_t last = ticket;
    uint64_t since = time_now();

    for (;;) {
        uint32_t serving = __atomic_load_n(&lock->serving, __ATOMIC_ACQUIRE);
        if (serving == ticket)
            return;
        if (serving != last) {
            last = serving;
            since = time_now();
            watchdog_beat();
        } else if (time_now() - since > STUCK_SECONDS * time_hz()) {
            panic("a lock is not released: taken twice, or by a processor that has stopped");
        }
        processor_relax();
    }
}
