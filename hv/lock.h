/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lock for what several processors share: those who wait get it in the order in which they came.
 *
 * Taking it is an acquire and releasing it a release, so that all that one holder wrote is there
 * for the next. It is not recursive. The hypervisor runs with interrupts off but in its idle wait,
 * where nothing is held, so that no interrupt handler can want what its own processor holds; an NMI
 * handler must not take locks.
 */
#ifndef HV_LOCK_H
#define HV_LOCK_H

#include "hv/types.h"

struct lock {
    uint32_t next;    /* ticket of the next one who comes */
    uint32_t serving; /* ticket of the one who holds it, if `next` is another */
};

/* All zero is a free lock, too. */
#define LOCK_FREE ((struct lock){0, 0})

/* The slow way of lock_take: until `ticket` is served. Panics when the holder does not change for a
 * time that no holder needs. */
void lock_wait(const struct lock *lock, uint32_t ticket);

static inline void lock_take(struct lock *lock)
{
    uint32_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);

    if (__builtin_expect(__atomic_load_n(&lock->serving, __ATOMIC_ACQUIRE) != ticket, false))
        lock_wait(lock, ticket);
}

/* Take it if that needs no waiting. */
static inline bool lock_try(struct lock *lock)
{
    uint32_t serving = __atomic_load_n(&lock->serving, __ATOMIC_RELAXED);

    /* `next` alone is changed, and only if it still is the ticket that is served. */
    return __atomic_compare_exchange_n(&lock->next, &serving, serving + 1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* Only the holder writes `serving`. */
static inline void lock_release(struct lock *lock)
{
    __atomic_store_n(&lock->serving, lock->serving + 1, __ATOMIC_RELEASE);
}

/* Whether anybody holds it: for assertions that the caller does. */
static inline bool lock_is_held(const struct lock *lock)
{
    return __atomic_load_n(&lock->next, __ATOMIC_RELAXED) !=
           __atomic_load_n(&lock->serving, __ATOMIC_RELAXED);
}

#endif
