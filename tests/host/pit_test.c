/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interval timer, by the 8254 data sheet. The TSC makes exactly 100 ticks to one of the timer's
 * clock, but for the tests of its exactness.
 */
#include "hv/dev/clock.h"
#include "hv/dev/pit.h"
#include "tests/host/lamp.h"
#include "tests/host/test.h"

#define CLOCK 100u

static struct pit pit;
static struct lamp lamp;
static uint64_t now;

static void reset_at(uint64_t tsc_hz)
{
    const struct irq_line line = lamp_line(&lamp);

    lamp = (struct lamp){0};
    now = 0;
    pit_init(&pit, tsc_hz, &line);
}

static void reset(void)
{
    reset_at((uint64_t)PIT_HZ * CLOCK);
}

static void out(uint16_t port, uint8_t value)
{
    pit_write(&pit, port, value, now);
}

static uint8_t in(uint16_t port)
{
    return pit_read(&pit, port, now);
}

/* Program `counter` with `mode` and a count of two bytes. */
static void start(unsigned counter, unsigned mode, uint16_t count)
{
    out(0x43, (uint8_t)(counter << 6 | 0x30 | mode << 1));
    out((uint16_t)(0x40 + counter), (uint8_t)count);
    out((uint16_t)(0x40 + counter), (uint8_t)(count >> 8));
}

static uint16_t count_of(unsigned counter)
{
    out(0x43, (uint8_t)(counter << 6));
    uint8_t low = in((uint16_t)(0x40 + counter));
    return (uint16_t)(low | in((uint16_t)(0x40 + counter)) << 8);
}

static uint8_t status_of(unsigned counter)
{
    out(0x43, (uint8_t)(0xe0 | 2u << counter));
    return in((uint16_t)(0x40 + counter));
}

static bool output(unsigned counter)
{
    return (status_of(counter) & 0x80) != 0;
}

/* `clocks` of the timer later. */
static void pass(uint64_t clocks)
{
    now += clocks * CLOCK;
    pit_tick(&pit, now);
}

static void gate(bool on)
{
    out(0x61, on ? 0x01 : 0x00);
}

/* Data sheet, figure 15: OUT goes high N + 1 clocks after the count is written. */
static void mode_0_terminal_count(void)
{
    reset();
    start(2, 0, 4);
    CHECK(!output(2), "low until then");
    gate(true);
    start(2, 0, 4);
    pass(1);
    CHECK(count_of(2) == 4, "loaded by the next clock: %u", count_of(2));
    pass(3);
    CHECK(count_of(2) == 1 && !output(2), "%u", count_of(2));
    pass(1);
    CHECK(count_of(2) == 0 && output(2), "N + 1 clocks");
    pass(1);
    CHECK(count_of(2) == 0xffff && output(2), "it counts on");
    start(2, 0, 5);
    pass(3);
    gate(false);
    pass(10);
    CHECK(count_of(2) == 3 && !output(2), "the gate stops it at %u", count_of(2));
    gate(true);
    pass(2);
    CHECK(!output(2), "two of three");
    pass(1);
    CHECK(output(2), "three of three");
    out(0x42, 1);
    CHECK(!output(2), "the first byte of a new count makes it low");
    pass(100);
    CHECK(!output(2), "and stops it");
    out(0x42, 0);
    pass(0x101);
    CHECK(output(2) && count_of(2) == 0xff01, "0x%x", count_of(2));
}

static void mode_1_one_shot(void)
{
    reset();
    start(2, 1, 3);
    pass(10);
    CHECK(output(2), "nothing without a trigger");
    gate(true);
    pass(1);
    CHECK(!output(2) && count_of(2) == 3, "triggered");
    pass(2);
    gate(false);
    gate(true);
    pass(3);
    CHECK(!output(2), "triggered again before its end");
    pass(1);
    CHECK(output(2) && count_of(2) == 0, "the end");
    out(0x42, 2), out(0x42, 0);
    pass(50);
    CHECK(output(2), "a new count waits for a trigger");
    gate(false), gate(true);
    pass(2);
    CHECK(!output(2), "two clocks");
    pass(1);
    CHECK(output(2), "of the new count");
}

/* Figure 17: N, N - 1, ... 1, N; low at 1. */
static void mode_2_rate_generator(void)
{
    reset();
    gate(true);
    start(2, 2, 3);
    pass(1);
    for (unsigned i = 0; i < 9; i++) {
        CHECK(count_of(2) == 3 - i % 3 && output(2) == (i % 3 != 2), "clock %u: %u", i,
              count_of(2));
        pass(1);
    }
    out(0x42, 5), out(0x42, 0);
    CHECK(count_of(2) == 3 && (status_of(2) & 0x40), "the running period stays: %u", count_of(2));
    pass(3);
    CHECK(count_of(2) == 5 && !(status_of(2) & 0x40), "then the new one: %u", count_of(2));
    pass(2);
    gate(false);
    CHECK(output(2), "the gate makes it high");
    pass(7);
    gate(true);
    pass(1);
    CHECK(count_of(2) == 5, "the gate starts the period: %u", count_of(2));
}

/* Figure 18: by two; for an odd N the high half is one clock longer. */
static void mode_3_square_wave(void)
{
    static const uint16_t even[] = {4, 2, 4, 2}, odd[] = {4, 2, 0, 4, 2};

    reset();
    gate(true);
    start(2, 3, 4);
    pass(1);
    for (unsigned i = 0; i < 8; i++) {
        CHECK(count_of(2) == even[i % 4] && output(2) == (i % 4 < 2), "even, clock %u", i);
        pass(1);
    }
    start(2, 3, 5);
    pass(1);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(count_of(2) == odd[i % 5] && output(2) == (i % 5 < 3), "odd, clock %u", i);
        pass(1);
    }
}

static void modes_4_and_5_strobe(void)
{
    reset();
    gate(true);
    start(2, 4, 3);
    pass(3);
    CHECK(output(2) && count_of(2) == 1, "before");
    pass(1);
    CHECK(!output(2) && count_of(2) == 0, "low for one clock");
    pass(1);
    CHECK(output(2) && count_of(2) == 0xffff, "high again");
    gate(false);
    start(2, 5, 2);
    pass(5);
    CHECK(output(2), "mode 5 waits for the gate");
    gate(true);
    pass(2);
    CHECK(output(2), "before");
    pass(1);
    CHECK(!output(2), "low");
    pass(1);
    CHECK(output(2), "high again");
}

static void bytes_latches_and_read_back(void)
{
    reset();
    gate(true);
    start(2, 2, 0x1234);
    pass(1);
    out(0x43, 0x80); /* latch */
    pass(0x34);
    CHECK(in(0x42) == 0x34, "low byte as latched");
    out(0x43, 0x80);
    CHECK(in(0x42) == 0x12, "a second latch does nothing before all is read");
    CHECK(in(0x42) == 0x00 && in(0x42) == 0x12, "not latched");
    out(0x43, 0xc8); /* read back: count and status */
    pass(1);
    CHECK(in(0x42) == 0xb4, "status first: OUT, two bytes, mode 2");
    CHECK(in(0x42) == 0x00 && in(0x42) == 0x12, "then the count");
    CHECK(in(0x42) == 0xff && in(0x42) == 0x11, "then what runs");
    out(0x43, 0x94); /* low byte only, mode 2 */
    CHECK(status_of(2) == 0xd4, "no count yet: 0x%x", status_of(2));
    out(0x42, 0x80);
    pass(1);
    CHECK(in(0x42) == 0x80 && in(0x42) == 0x80, "low bytes");
    out(0x43, 0xa4); /* high byte only */
    out(0x42, 0x02);
    pass(1);
    CHECK(in(0x42) == 0x02 && in(0x42) == 0x02, "high bytes");
    CHECK(in(0x43) == 0xff, "the control word cannot be read");
    start(2, 2, 0);
    pass(2);
    CHECK(count_of(2) == 0xffff, "0 is 65536");
}

static void bcd_counts_in_decimal(void)
{
    reset();
    gate(true);
    out(0x43, 0xb1); /* mode 0, BCD */
    out(0x42, 0x00), out(0x42, 0x20);
    pass(2);
    CHECK(count_of(2) == 0x1999, "0x%x", count_of(2));
    pass(2000);
    CHECK(count_of(2) == 0x9999 && output(2), "0x%x", count_of(2));
    out(0x42, 0), out(0x42, 0);
    pass(2);
    CHECK(count_of(2) == 0x9999 && !output(2), "0 is 10000: 0x%x", count_of(2));
}

/* Linux calibrates its TSC by this: counter 2 in mode 0, its output at port 0x61. */
static void port_61_shows_the_output(void)
{
    reset();
    out(0x61, (uint8_t)((in(0x61) & ~0x02) | 0x01));
    start(2, 0, 59659); /* 50 ms */
    CHECK((in(0x61) & 0x2f) == 0x01, "0x%x", in(0x61));
    pass(59659);
    CHECK(!(in(0x61) & 0x20), "not yet");
    pass(1);
    CHECK((in(0x61) & 0x2f) == 0x21, "now");
    unsigned toggles = 0;
    for (uint8_t i = 0, last = in(0x61) & 0x10; i < 180; i++, pass(1)) {
        toggles += last != (in(0x61) & 0x10);
        last = in(0x61) & 0x10;
    }
    CHECK(toggles == 10, "refresh every 15 us: %u in 180 clocks", toggles);
}

/* Go from event to event as the VM does, until `end`; returns how many there were. */
static unsigned run_until(uint64_t end)
{
    unsigned events = 0;

    while (pit_next_event(&pit) <= end) {
        CHECK(pit_next_event(&pit) > now, "an event in the past");
        now = pit_next_event(&pit);
        unsigned before = lamp.rises;
        pit_tick(&pit, now - 1);
        CHECK(lamp.rises == before, "too early");
        pit_tick(&pit, now);
        CHECK(lamp.rises == before + 1 && lamp.on, "an event is a rise");
        events++;
    }
    now = end;
    return events;
}

/* Linux' HZ = 250: 1193182 / 250 = 4773, for an hour of a TSC that has nothing to do with it. */
static void periods_do_not_drift(void)
{
    uint64_t hz = 2594873219u, hour = 3600 * hz;

    reset_at(hz);
    start(0, 2, 4773);
    unsigned expected = (unsigned)((3600ull * PIT_HZ - 1) / 4773);
    unsigned got = run_until(hour);
    CHECK(got == expected, "%u instead of %u", got, expected);
}

/* After a pause there is one rise, and the next comes in the old phase. */
static void a_pause_makes_no_storm(void)
{
    reset();
    start(0, 2, 1000);
    pass(1001);
    CHECK(lamp.rises == 2, "mode 2's own, and the first: %u", lamp.rises);
    pass(1000000 + 500);
    CHECK(lamp.rises == 3, "%u rises", lamp.rises);
    CHECK(pit_next_event(&pit) == now + 500 * CLOCK, "the phase is kept");
}

static void each_mode_interrupts_as_its_output_rises(void)
{
    reset();
    CHECK(pit_next_event(&pit) == NO_EVENT && !lamp.on, "nothing after power-on");
    start(0, 0, 100);
    CHECK(!lamp.on && pit_next_event(&pit) == now + 101 * CLOCK, "mode 0");
    CHECK(run_until(now + 1000000 * CLOCK) == 1 && lamp.on, "once");
    start(0, 3, 100);
    CHECK(pit_next_event(&pit) == now + 101 * CLOCK, "mode 3");
    CHECK(run_until(now + 1001 * CLOCK) == 10, "each period");
    start(0, 4, 100);
    CHECK(pit_next_event(&pit) == now + 102 * CLOCK, "mode 4: the end of the strobe");
    CHECK(run_until(now + 1000000 * CLOCK) == 1, "once");
    start(0, 1, 100);
    CHECK(pit_next_event(&pit) == NO_EVENT, "mode 1: nothing moves the gate");
    start(0, 2, 1);
    CHECK(pit_next_event(&pit) == NO_EVENT, "a period of 1 is illegal");
    start(0, 0, 0);
    pit_reset(&pit);
    CHECK(pit_next_event(&pit) == NO_EVENT && !lamp.on, "reset");
}

/* The clock's arithmetic against 128 bits. */
static void the_clock_is_exact(void)
{
    uint64_t random = 1;

    for (unsigned i = 0; i < 100000; i++) {
        uint64_t hz = test_random(&random) % 5000000 + 1;
        uint64_t tsc_hz = test_random(&random) % 6000000000u + hz;
        uint64_t time = test_random(&random) >> (4 + test_random(&random) % 50);
        uint64_t ticks = clock_ticks(time, hz, tsc_hz);
        CHECK(ticks == (uint64_t)((unsigned __int128)time * hz / tsc_hz), "ticks");
        uint64_t first = clock_time(ticks, hz, tsc_hz);
        CHECK(first <= time && clock_ticks(first, hz, tsc_hz) == ticks &&
                  (first == 0 || clock_ticks(first - 1, hz, tsc_hz) < ticks || ticks == 0),
              "the first moment of a tick");
    }
}

int main(void)
{
    RUN(mode_0_terminal_count);
    RUN(mode_1_one_shot);
    RUN(mode_2_rate_generator);
    RUN(mode_3_square_wave);
    RUN(modes_4_and_5_strobe);
    RUN(bytes_latches_and_read_back);
    RUN(bcd_counts_in_decimal);
    RUN(port_61_shows_the_output);
    RUN(periods_do_not_drift);
    RUN(a_pause_makes_no_storm);
    RUN(each_mode_interrupts_as_its_output_rises);
    RUN(the_clock_is_exact);
    return test_status();
}
