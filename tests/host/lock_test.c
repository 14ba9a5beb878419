/* SPDX-License-Identifier: BSD-2-Clause */
/* The lock with threads for processors. */
#include "hv/lock.h"

#include <pthread.h>
#include <sched.h>

#include "tests/host/clock.h"
#include "tests/host/panic.h"
#include "tests/host/test.h"

#define THREADS 4u
#define ROUNDS  20000u

static struct lock lock;

/* --- exclusion -------------------------------------------------------------------------------- */

/* Only under the lock; not atomic, so that two holders at once lose counts. */
static volatile uint64_t counter;
static volatile bool inside;
static bool met;

static void *count_up(void *take)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (take)
            lock_take(&lock);
        else
            while (!lock_try(&lock))
                sched_yield();
        if (inside)
            __atomic_store_n(&met, true, __ATOMIC_RELAXED);
        inside = true;
        counter = counter + 1;
        if (i % 64 == 0)
            sched_yield();
        inside = false;
        lock_release(&lock);
    }
    return NULL;
}

static void one_holder_at_a_time(void)
{
    pthread_t thread[THREADS];

    lock = LOCK_FREE;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, count_up, i % 2 ? &lock : NULL);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK(!met, "two threads held it");
    CHECK(counter == THREADS * ROUNDS, "%llu", (unsigned long long)counter);
    CHECK(!lock_is_held(&lock), "it is free again");
}

/* --- order ------------------------------------------------------------------------------------ */

static unsigned order[THREADS], arrived;

static void *note_arrival(void *number)
{
    lock_take(&lock);
    order[arrived++] = (unsigned)(uintptr_t)number;
    lock_release(&lock);
    return NULL;
}

/* Each thread takes its ticket before the next one starts. */
static void served_in_the_order_of_coming(void)
{
    pthread_t thread[THREADS];

    lock = LOCK_FREE;
    arrived = 0;
    lock_take(&lock);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_create(&thread[i], NULL, note_arrival, (void *)(uintptr_t)i);
        while (__atomic_load_n(&lock.next, __ATOMIC_RELAXED) != i + 2)
            sched_yield();
    }
    lock_release(&lock);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(order[i] == i, "number %u came at place %u", order[i], i);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void a_try_does_not_wait(void)
{
    lock = LOCK_FREE;
    CHECK(lock_try(&lock), "it was free");
    CHECK(lock_is_held(&lock), "it is taken");
    CHECK(!lock_try(&lock), "it was taken");
    lock_release(&lock);
    CHECK(lock_try(&lock), "a failed try took a ticket");
    lock_release(&lock);
}

static void tickets_wrap_around(void)
{
    lock = (struct lock){UINT32_MAX, UINT32_MAX};
    CHECK(!lock_is_held(&lock), "it is free");
    lock_take(&lock);
    CHECK(lock_is_held(&lock) && !lock_try(&lock), "it is taken");
    lock_release(&lock);
    CHECK(lock.next == 0 && lock.serving == 0, "%u %u", lock.next, lock.serving);
    CHECK(lock_try(&lock), "it is free");
    lock_release(&lock);
}

static void taking_it_twice_is_noticed(void)
{
    jmp_buf caught;

    lock = LOCK_FREE;
    clock_step = 1000; /* a second each look */
    panic_expected = &caught;
    if (setjmp(caught) == 0) {
        lock_take(&lock);
        lock_take(&lock);
        CHECK(false, "it was given twice");
    }
    panic_expected = NULL;
    clock_step = 0;
}

int main(void)
{
    RUN(one_holder_at_a_time);
    RUN(served_in_the_order_of_coming);
    RUN(a_try_does_not_wait);
    RUN(tickets_wrap_around);
    RUN(taking_it_twice_is_noticed);
    return test_status();
}
