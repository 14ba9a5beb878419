/* SPDX-License-Identifier: BSD-2-Clause */
/* See sched.h. */
#include "hv/sched.h"

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/lock.h"
#include "hv/memory.h"
#include "hv/vm.h"
#include "hv/watchdog.h"

#define SLICES_PER_SECOND 200u /* 5 ms: some hundred times what a change costs */
#define LOOKS_PER_SECOND  100u
#define SENDS_PER_SECOND  1440u /* a UART's FIFO of 16 bytes is empty after two of them */
#define NEVER             ~0ull

/* A virtual processor gives way early to one that had less by more than this part of a slice. */
#define YIELD_PART 8u

/* A host processor's virtual processors. The boot processor changes the list, its own processor
 * reads it: both under the lock. */
struct queue {
    struct lock lock;
    struct vcpu *first;
    struct vcpu *running; /* NULL: none; its own processor's */
    uint64_t least_ran;   /* of those that could run lately: where one that woke begins */
};

static struct queue queues[PROCESSORS_MAX];

static bool manage_wanted;        /* by any processor, atomically */
static enum manage manage_answer; /* the boot processor's */

void sched_add(struct vcpu *vcpu)
{
    struct queue *q = &queues[vcpu->processor];

    lock_take(&q->lock);
    vcpu->ran = q->least_ran;
    vcpu->next = q->first;
    q->first = vcpu;
    lock_release(&q->lock);
    processor_kick(vcpu->processor);
}

void sched_remove(struct vcpu *vcpu)
{
    struct queue *q = &queues[vcpu->processor];

    lock_take(&q->lock);
    for (struct vcpu **at = &q->first; *at; at = &(*at)->next) {
        if (*at == vcpu) {
            *at = vcpu->next;
            break;
        }
    }
    lock_release(&q->lock);
}

/* Its processor looks before it enters a guest or sleeps. */
static void alert(const struct vcpu *vcpu)
{
    struct vcpu *running = queues[vcpu->processor].running;

    if (vcpu->processor != processor_index())
        processor_kick(vcpu->processor);
    else if (running && running != vcpu) /* it may have to give way */
        __atomic_fetch_or(&running->attention, ATTEND_EVENTS, __ATOMIC_SEQ_CST);
}

void sched_attention(struct vcpu *vcpu, uint32_t bits)
{
    uint32_t before = __atomic_fetch_or(&vcpu->attention, bits, __ATOMIC_SEQ_CST);

    if ((before & bits) != bits) /* who set the same bits before has alerted it */
        alert(vcpu);
}

void sched_wake(struct vcpu *vcpu, uint32_t bits)
{
    __atomic_fetch_or(&vcpu->attention, bits, __ATOMIC_SEQ_CST);
    alert(vcpu);
}

static uint64_t slice(void)
{
    return time_hz() / SLICES_PER_SECOND;
}

/* --- choosing --------------------------------------------------------------------------------- */

static uint64_t wakes_at(const struct vcpu *vcpu)
{
    return __atomic_load_n(&vcpu->wakes_at, __ATOMIC_ACQUIRE);
}

static bool can_run(const struct vcpu *vcpu, uint64_t now)
{
    const struct vm *vm = vcpu->vm;

    if (vcpu->activity == VCPU_GONE)
        return false;
    if (vm->end != VM_RUNNING) /* to leave it */
        return true;
    if (__atomic_load_n(&vm->paused, __ATOMIC_ACQUIRE)) /* it answers, and its guest waits */
        return (__atomic_load_n(&vm->requests, __ATOMIC_ACQUIRE) != 0 && vcpu->index == 0) ||
               (__atomic_load_n(&vcpu->attention, __ATOMIC_ACQUIRE) & ATTEND_DUMP) != 0;
    /* What it is to forget it forgets before it next enters its guest. */
    uint32_t attention = __atomic_load_n(&vcpu->attention, __ATOMIC_ACQUIRE) & ~ATTEND_FLUSH;
    return vcpu->activity == VCPU_RUNS || attention != 0 || wakes_at(vcpu) <= now;
}

/* The next to run, or NULL; *wake: when one of the others has something to do by itself. */
static struct vcpu *choose(struct queue *q, uint64_t now, uint64_t *wake, bool *others)
{
    struct vcpu *best = NULL;
    unsigned count = 0;

    *wake = NEVER;
    for (struct vcpu *v = q->first; v; v = v->next) {
        if (!can_run(v, now)) {
            if (v->activity != VCPU_GONE && !v->vm->paused)
                *wake = min_u64(*wake, wakes_at(v));
            v->wanted_since = 0;
            continue;
        }
        if (v->wanted_since == 0) {
            v->wanted_since = now;
            v->ran = max_u64(v->ran, q->least_ran); /* what it slept is not owed to it */
        }
        count++;
        if (!best || v->ran < best->ran)
            best = v;
    }
    *others = count > 1;
    if (best)
        q->least_ran = max_u64(q->least_ran, best->ran);
    return best;
}

static bool must_manage(const struct vcpu *running)
{
    if (running->processor != 0)
        return false;
    return __atomic_load_n(&manage_wanted, __ATOMIC_ACQUIRE) ||
           (manage_answer == MANAGE_BUSY && time_now() >= running->slice_end);
}

bool sched_should_yield(struct vcpu *running)
{
    struct queue *q = &queues[running->processor];
    bool yield = false, others = false;
    uint64_t wake = NEVER; /* of those that sleep */

    if (must_manage(running))
        return true;
    if (q->first == running && !running->next)
        return false;
    lock_take(&q->lock);
    uint64_t now = time_now();
    uint64_t had = running->ran + (now - running->began);
    for (const struct vcpu *v = q->first; v && !yield; v = v->next) {
        if (v == running || v->activity == VCPU_GONE)
            continue;
        if (!can_run(v, now)) {
            if (!v->vm->paused)
                wake = min_u64(wake, wakes_at(v));
            continue;
        }
        others = true;
        yield =
            now >= running->slice_end || max_u64(v->ran, q->least_ran) + slice() / YIELD_PART < had;
    }
    if (running->slice_end == NEVER || now >= running->slice_end)
        running->slice_end = others ? now + slice() : wake;
    lock_release(&q->lock);
    return yield;
}

static void run(struct queue *q, struct vcpu *vcpu, uint64_t now, uint64_t slice_end)
{
    vcpu->stolen += now - vcpu->wanted_since;
    vcpu->slice_end = slice_end;
    vcpu->began = now;
    q->running = vcpu;
    memory_account(vcpu->vm->account);
    bool left = arch_vcpu_run(vcpu);
    memory_account(NULL);
    q->running = NULL;
    uint64_t after = time_now();
    vcpu->ran += after - now;
    vcpu->wanted_since = vcpu->activity == VCPU_RUNS ? after : 0;
    if (!left)
        return;
    __atomic_store_n(&vcpu->activity, VCPU_GONE,
                     __ATOMIC_RELEASE); /* it may be freed from here on */
    __atomic_store_n(&manage_wanted, true, __ATOMIC_RELEASE);
    if (vcpu->processor != 0)
        processor_kick(0);
}

uint64_t sched_looks_again(void)
{
    bool sends = processor_index() == 0 && console_service();

    return time_now() + time_hz() / (sends ? SENDS_PER_SECOND : LOOKS_PER_SECOND);
}

/* Whether the processor's life goes on. */
static bool call(enum manage (*manage)(void))
{
    __atomic_store_n(&manage_wanted, false, __ATOMIC_SEQ_CST); /* before it looks */
    manage_answer = manage();
    return manage_answer != MANAGE_OVER;
}

void sched_run(enum manage (*manage)(void))
{
    struct queue *q = &queues[processor_index()];

    for (;;) {
        uint64_t wake;
        bool others;

        watchdog_beat();
        watchdog_look();
        if (manage && !call(manage))
            return;
        bool busy = manage && manage_answer == MANAGE_BUSY;
        lock_take(&q->lock);
        uint64_t now = time_now();
        struct vcpu *next = choose(q, now, &wake, &others);
        lock_release(&q->lock);
        if (next) {
            uint64_t slice_end = others || busy ? now + slice() : NEVER;
            run(q, next, now, min_u64(slice_end, wake));
        } else if (!busy) {
            uint64_t period = watchdog_period();
            uint64_t look = period < NEVER - now ? now + period : NEVER;
            processor_idle(min_u64(wake, manage ? sched_looks_again() : look));
        }
    }
}
