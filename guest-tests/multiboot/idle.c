/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * idle: halts until a timer has woken it so many times, and prints the time that it took, in TSC
 * ticks and in milliseconds. Arguments: by=pit (IRQ 0 of the i8254, by way of the i8259) or by=apic
 * (the local APIC's timer), times=N (100), us=N (time between two wake-ups, 1000 microseconds, at
 * most 50000). Ends with value 0, or 1 after "FAIL ..." if HLT ended without the timer. If
 * the timer never comes, it halts for ever.
 */
#include "guest-tests/multiboot/machine32.h"

#define VECTOR_TIMER 0x40u
#define US_MAX       50000u

void main(uint32_t magic, const void *info);

static void start_pit(uint32_t us)
{
    pit_set(0, 2, (uint16_t)mul_div(us, PIT_HZ, 1000000));
    pic_connect();
    pic_unmask(0);
}

static uint32_t timer_elapsed(void)
{
    return 0u - apic_read(APIC_TIMER_CURRENT);
}

static void start_apic(uint32_t us)
{
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_TIMER_INITIAL, 0xffffffff);
    uint32_t khz = counter_khz(timer_elapsed, 0xffffffff, 10000);
    check(khz > 0, "the local APIC's timer does not count");
    apic_write(APIC_LVT_TIMER, TIMER_PERIODIC | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, mul_div(khz, us, 1000));
}

static void report(const char *by, uint32_t woken, uint32_t halts, uint64_t ticks)
{
    put_text("idle by=");
    put_text(by);
    put_text(" woken=");
    put_number(woken);
    put_text(" halts=");
    put_number(halts);
    put_text(" ticks=");
    put_hex(ticks);
    put_text(" ms=");
    put_number(divide(ticks, tsc_khz));
    put('\n');
}

void main(uint32_t magic, const void *info)
{
    char by[8] = "pit";

    args_init(magic, info);
    arg_word("by", by, sizeof(by));
    uint32_t times = arg_number("times", 100), us = arg_number("us", 1000);
    args_done();
    check(text_equal(by, "pit") || text_equal(by, "apic"), "by: pit or apic");
    check(us > 0 && us <= US_MAX, "us: 1 to 50000");
    machine_init();
    bool by_pit = text_equal(by, "pit");
    unsigned vector = by_pit ? VECTOR_PIC : VECTOR_TIMER;
    if (by_pit)
        start_pit(us);
    else
        start_apic(us);
    uint64_t start = rdtsc();
    uint32_t halts = 0;
    for (; cpus[0].counts[vector] < times; halts++)
        halt();
    report(by, cpus[0].counts[vector], halts, rdtsc() - start);
    check(halts <= times, "HLT ended without the timer");
    end(0);
}
