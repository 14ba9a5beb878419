/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * self_test = processors: that each processor takes kicks and sleeps by its own timer, that no kick
 * is lost between a look and a sleep, and that what all share stands it when all use it at once.
 * Each also tries what the hypervisor's own tables forbid (selftest_protections.c).
 * The boot processor asks, the others work. self_test = other_panics starts the same way.
 */
#include "arch/x86_64/processor.h"
#include "arch/x86_64/selftest.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/lock.h"
#include "hv/memory.h"

#define ANSWERS     500u
#define RING_ROUNDS 200u
#define COUNTS      100u
#define LINES       20u
#define NAPS        5u

#define MS_PER_SECOND 1000u
#define NAP_MS        5u
#define NAP_WAKES_MAX 4u /* a timer that is a little early, and interrupts of other kinds */
#define LIMIT_MS      5000u
#define PAUSES_MAX    61u /* between two questions: so that they find the other at every point */

enum work { WORK_ANSWER, WORK_NAP, WORK_RING, WORK_SHARE, WORK_TRESPASS, WORK_FAULT };

static enum work work; /* what is asked of all; written while nobody works */
static struct station {
    uint32_t asked; /* questions so far; the boot processor's */
    uint32_t done;  /* answers so far; the processor's own */
    bool ok;        /* the last answer */
} station[PROCESSORS_MAX];

static uint64_t ticks_of(uint32_t ms)
{
    return time_hz() / MS_PER_SECOND * ms;
}

/* --- work ------------------------------------------------------------------------------------- */

/* Sleep: neither shorter than asked nor, but for what a busy emulator does, longer, and not by
 * being woken over and over. */
static bool nap(void)
{
    for (unsigned n = 0; n < NAPS; n++) {
        uint64_t until = time_now() + ticks_of(NAP_MS);
        unsigned wakes = 0;
        for (; time_now() < until; wakes++)
            processor_idle(until);
        if (wakes > NAP_WAKES_MAX || time_now() - until > ticks_of(LIMIT_MS))
            return false;
    }
    return true;
}

static uint32_t token; /* it is the turn of processor `token` modulo their number */

/* A token goes round; only kicks wake who waits for it. */
static bool pass_round(void)
{
    unsigned count = processor_count(), index = processor_index();

    for (unsigned n = 0; n < RING_ROUNDS; n++) {
        while (__atomic_load_n(&token, __ATOMIC_ACQUIRE) % count != index)
            processor_idle(IDLE_FOR_EVER);
        __atomic_fetch_add(&token, 1, __ATOMIC_RELEASE);
        processor_kick((index + 1) % count);
    }
    return true;
}

static struct lock lock;
static volatile uint32_t counter; /* counts under the lock */

static bool use_frame(void)
{
    volatile uint32_t *page = host_pages_alloc(1);

    if (!page)
        return false;
    bool clean = page[0] == 0;
    page[0] = processor_index() + 1;
    processor_relax();
    bool mine = page[0] == processor_index() + 1;
    host_pages_free((void *)(uintptr_t)page, 1);
    return clean && mine;
}

static bool share(void)
{
    bool ok = true;

    for (unsigned n = 0; n < COUNTS; n++) {
        lock_take(&lock);
        counter = counter + 1;
        lock_release(&lock);
        ok &= use_frame();
    }
    for (unsigned n = 0; n < LINES; n++)
        log_line("self test: processor %u says line %u of %u", processor_index(), n, LINES);
    return ok;
}

/* 0, in a way that the compiler does not see. */
static volatile uintptr_t nowhere;

static void write_byte(volatile char *at)
{
    *at = 0;
}

static bool fault(void)
{
    write_byte((volatile char *)nowhere);
    return false;
}

static bool do_work(void)
{
    switch (work) {
    case WORK_ANSWER:
        return true;
    case WORK_NAP:
        return nap();
    case WORK_RING:
        return pass_round();
    case WORK_SHARE:
        return share();
    case WORK_TRESPASS:
        return selftest_protections();
    case WORK_FAULT:
        return fault();
    }
    return false;
}

void selftest_of_others(void)
{
    struct station *own = &station[processor_index()];

    for (;;) {
        while (__atomic_load_n(&own->asked, __ATOMIC_ACQUIRE) == own->done)
            processor_idle(IDLE_FOR_EVER);
        own->ok = do_work();
        __atomic_store_n(&own->done, own->done + 1, __ATOMIC_RELEASE);
    }
}

/* --- the boot processor ----------------------------------------------------------------------- */

static void ask(unsigned index)
{
    __atomic_store_n(&station[index].asked, station[index].asked + 1, __ATOMIC_RELEASE);
    processor_kick(index);
}

static bool answers(unsigned index)
{
    struct station *s = &station[index];
    uint64_t start = time_now();

    while (__atomic_load_n(&s->done, __ATOMIC_ACQUIRE) != s->asked) {
        if (time_now() - start > ticks_of(LIMIT_MS))
            return false;
        processor_relax();
    }
    return s->ok;
}

static bool failed(const char *what, unsigned index)
{
    log_line("self test: processor %u fails: %s", index, what);
    return false;
}

static bool kicks_arrive(void)
{
    work = WORK_ANSWER;
    for (unsigned n = 0; n < ANSWERS; n++) {
        for (unsigned i = 1; i < processor_count(); i++) {
            for (unsigned pause = 0; pause < n % PAUSES_MAX; pause++)
                processor_relax();
            ask(i);
            if (!answers(i))
                return failed("kick", i);
        }
    }
    log_line("self test: each processor has answered %u kicks", ANSWERS);
    return true;
}

/* All at once, the boot processor too. */
static bool all_do(enum work what, const char *name)
{
    work = what;
    for (unsigned i = 1; i < processor_count(); i++)
        ask(i);
    if (!do_work())
        return failed(name, 0);
    for (unsigned i = 1; i < processor_count(); i++) {
        if (!answers(i))
            return failed(name, i);
    }
    return true;
}

static bool naps_end(void)
{
    if (!all_do(WORK_NAP, "nap"))
        return false;
    log_line("self test: each processor has slept %u times for %u ms", NAPS, NAP_MS);
    return true;
}

static bool token_goes_round(void)
{
    token = 0;
    if (!all_do(WORK_RING, "ring"))
        return false;
    log_line("self test: the token has gone round %u times", token / processor_count());
    return token == RING_ROUNDS * processor_count();
}

static bool sharing_is_safe(void)
{
    uint64_t free_before = host_frames.free_bytes;

    if (!all_do(WORK_SHARE, "share"))
        return false;
    log_line("self test: all have counted to %u, %llu bytes are lost", counter,
             (unsigned long long)(free_before - host_frames.free_bytes));
    return counter == COUNTS * processor_count() && free_before == host_frames.free_bytes;
}

static bool protections_hold(void)
{
    return all_do(WORK_TRESPASS, "protections");
}

/* The other one's panic must print though this one has the console, and does not give it up. */
static bool other_panics(void)
{
    unsigned last = processor_count() - 1;

    if (last == 0) {
        log_line("self test: there is one processor only");
        return false;
    }
    console_begin();
    work = WORK_FAULT;
    ask(last);
    (void)answers(last);
    console_end();
    return failed("the fault was not noticed", last);
}

bool selftest_processors(enum self_test test)
{
    if (test == SELF_TEST_OTHER_PANICS)
        return other_panics();
    if (!kicks_arrive() || !naps_end() || !token_goes_round() || !sharing_is_safe() ||
        !protections_hold())
        return false;
    log_line("self test: %u processors, all well", processor_count());
    return true;
}
