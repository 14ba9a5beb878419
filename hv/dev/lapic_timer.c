/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APIC: the timer, which counts by the guest's TSC and is looked at only when it is due (SDM
 * 3A 11.5.4). */
#include "hv/dev/lapic_internal.h"

static enum apic_timer_mode timer_mode(uint32_t lvt)
{
    return (enum apic_timer_mode)(lvt >> APIC_LVT_MODE_SHIFT & 3);
}

/* TSC ticks to one count. Bits 3, 1, 0 of the divide configuration: 000 is 2, ... 110 is 128, 111
 * is 1. */
static uint64_t count_length(const struct lapic_timer *timer)
{
    unsigned code = (timer->divide & 3) | (timer->divide >> 1 & 4);

    return timer->ratio << ((code + 1) & 7);
}

static uint64_t after(uint64_t time, uint64_t ticks)
{
    return time > NO_EVENT - ticks ? NO_EVENT : time + ticks;
}

uint32_t lapic_timer_count(const struct lapic *lapic, uint64_t time)
{
    const struct lapic_timer *timer = &lapic->timer;
    uint64_t length = count_length(timer);

    if (timer->due == NO_EVENT || time >= timer->due ||
        timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_DEADLINE)
        return 0;
    return (uint32_t)((timer->due - time + length - 1) / length);
}

/*
 * Counts of the crystal's clock, 50 us, that lie between two interrupts of a periodic timer at
 * least: those of shorter periods become one. Else a guest would get on by no more than what is
 * left to it at the least before a timer's exit, and hardly at all without the VMX-preemption
 * timer: the machine's local APIC counts outside the guest, too (arch/x86_64/timer.c).
 */
#define LEAST_PERIOD 1250u

static void expire(struct lapic *lapic, uint64_t time)
{
    struct lapic_timer *timer = &lapic->timer;

    if (timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_PERIODIC) {
        timer->rest = after(time, LEAST_PERIOD * timer->ratio);
        uint64_t period = timer->initial * count_length(timer);
        timer->due = after(timer->due, ((time - timer->due) / period + 1) * period);
    } else {
        timer->due = NO_EVENT;
        timer->deadline = 0;
    }
    lapic_local_interrupt(lapic, LVT_TIMER);
}

static uint64_t expires_at(const struct lapic *lapic)
{
    const struct lapic_timer *timer = &lapic->timer;
    bool early = timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_PERIODIC && timer->due < timer->rest;

    return early ? timer->rest : timer->due;
}

void lapic_tick(struct lapic *lapic)
{
    if (lapic->timer.due == NO_EVENT)
        return;

    uint64_t time = lapic_now(lapic);
    if (time >= expires_at(lapic))
        expire(lapic, time);
}

/* Masked, it counts on, and nobody needs to be there when it gets to 0. */
uint64_t lapic_next_event(const struct lapic *lapic)
{
    return lapic->lvt[LVT_TIMER] & APIC_LVT_MASKED ? NO_EVENT : expires_at(lapic);
}

void lapic_timer_stop(struct lapic_timer *timer)
{
    timer->due = NO_EVENT;
    timer->rest = 0;
    timer->deadline = 0;
    timer->initial = 0;
}

void lapic_timer_write_initial(struct lapic *lapic, uint32_t value)
{
    struct lapic_timer *timer = &lapic->timer;

    if (timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_DEADLINE)
        return;
    lapic_tick(lapic);
    timer->initial = value;
    timer->rest = 0;
    timer->due = value == 0 ? NO_EVENT : after(lapic_now(lapic), value * count_length(timer));
    lapic_notify(lapic);
}

/* The counts that are left get another length. */
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value)
{
    struct lapic_timer *timer = &lapic->timer;
    uint64_t time = lapic_now(lapic);

    lapic_tick(lapic);
    uint32_t left = lapic_timer_count(lapic, time);
    timer->divide = value & LAPIC_DIVIDE_BITS;
    if (left == 0)
        return;
    timer->due = after(time, left * count_length(timer));
    lapic_notify(lapic);
}

/* Between the deadline mode and the others the timer is disarmed. */
void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value)
{
    bool was_deadline = timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_DEADLINE;

    lapic_tick(lapic);
    lapic->lvt[LVT_TIMER] = value;
    if ((timer_mode(value) == TIMER_DEADLINE) != was_deadline)
        lapic_timer_stop(&lapic->timer);
    lapic_notify(lapic);
}

void lapic_timer_write_deadline(struct lapic *lapic, uint64_t value)
{
    struct lapic_timer *timer = &lapic->timer;

    if (timer_mode(lapic->lvt[LVT_TIMER]) != TIMER_DEADLINE)
        return;
    timer->deadline = value;
    timer->due = value == 0 ? NO_EVENT : value;
    lapic_tick(lapic);
    lapic_notify(lapic);
}
