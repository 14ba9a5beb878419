/* SPDX-License-Identifier: BSD-2-Clause */
/* The real-time clock, by the MC146818A data sheet; the C library's calendar is the oracle. */
#include "hv/dev/rtc.h"

#include <string.h>
#include <time.h>

#include "hv/dev/clock.h"
#include "hv/types.h"
#include "tests/host/lamp.h"
#include "tests/host/test.h"

#define TSC_HZ   32768000ull /* 1000 ticks to one of the clock's */
#define CLOCK_HZ 32768u

enum { SEC, SEC_ALARM, MIN, MIN_ALARM, HOUR, HOUR_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D };
enum { CENTURY = 0x32 };

static struct rtc rtc;
static struct lamp lamp;
static uint64_t now;

/* `when` at a moment that is not a whole second of the TSC. */
static void reset(uint64_t when)
{
    const struct irq_line line = lamp_line(&lamp);

    lamp = (struct lamp){0};
    now = 123456789;
    rtc_init(&rtc, TSC_HZ, now, when, GIB(1), GIB(5), &line);
}

static uint8_t in(uint8_t index)
{
    rtc_write(&rtc, 0x70, index | 0x80, now); /* the NMI bit is no part of it */
    return rtc_read(&rtc, 0x71, now);
}

static void out(uint8_t index, uint8_t value)
{
    rtc_write(&rtc, 0x70, index, now);
    rtc_write(&rtc, 0x71, value, now);
}

static void pass(uint64_t ticks)
{
    now += ticks;
    rtc_tick(&rtc, now);
}

static unsigned bcd(uint8_t value)
{
    CHECK((value & 15) < 10 && value >> 4 < 10, "no BCD: 0x%x", value);
    return (value >> 4) * 10u + (value & 15);
}

/* The clock's registers in BCD and 24 hours are `when`. */
static void check_time(uint64_t when)
{
    time_t seconds = (time_t)when;
    struct tm tm;

    gmtime_r(&seconds, &tm);
    CHECK(bcd(in(SEC)) == (unsigned)tm.tm_sec && bcd(in(MIN)) == (unsigned)tm.tm_min &&
              bcd(in(HOUR)) == (unsigned)tm.tm_hour,
          "%s: %x:%x:%x", asctime(&tm), in(HOUR), in(MIN), in(SEC));
    CHECK(bcd(in(DAY)) == (unsigned)tm.tm_mday && bcd(in(MONTH)) == (unsigned)tm.tm_mon + 1 &&
              bcd(in(CENTURY)) * 100 + bcd(in(YEAR)) == (unsigned)tm.tm_year + 1900 &&
              bcd(in(WEEKDAY)) == (unsigned)tm.tm_wday + 1,
          "%s: %x%x-%x-%x", asctime(&tm), in(CENTURY), in(YEAR), in(MONTH), in(DAY));
}

static void it_tells_the_time(void)
{
    uint64_t random = 1;

    for (unsigned i = 0; i < 20000; i++) {
        uint64_t when = test_random(&random) % 8000000000ull; /* to 2223 */
        uint64_t later = test_random(&random) % 100000000;
        reset(when);
        check_time(when);
        pass(later * TSC_HZ + TSC_HZ - 1000);
        check_time(when + later);
        pass(1000);
        check_time(when + later + 1);
    }
}

static void formats(void)
{
    reset(1000000000 + 12 * 3600); /* 2001-09-09 13:46:40 */
    out(B, 0x06);
    CHECK(in(HOUR) == 13 && in(MIN) == 46 && in(SEC) == 40 && in(YEAR) == 1 && in(CENTURY) == 20,
          "binary: %u:%u", in(HOUR), in(MIN));
    out(B, 0x04);
    CHECK(in(HOUR) == 0x81, "1 p.m.: 0x%x", in(HOUR));
    out(B, 0x00);
    CHECK(in(HOUR) == 0x81 && in(MIN) == 0x46, "BCD");
    pass(11 * 3600 * TSC_HZ);
    CHECK(in(HOUR) == 0x12, "midnight is 12 a.m.: 0x%x", in(HOUR));
    pass(12 * 3600 * TSC_HZ);
    CHECK(in(HOUR) == 0x92, "noon is 12 p.m.: 0x%x", in(HOUR));
}

/* As Linux sets it: SET, the divider's reset, the time, SET off, the divider on. */
static void it_is_set(void)
{
    reset(1000000000);
    uint8_t b = in(B), a = in(A);
    out(B, b | 0x80);
    out(A, a | 0x70);
    pass(5 * TSC_HZ);
    check_time(1000000000);
    out(YEAR, 0x24), out(MONTH, 0x02), out(DAY, 0x29), out(HOUR, 0x23), out(MIN, 0x59);
    out(SEC, 0x58), out(CENTURY, 0x20);
    CHECK(in(SEC) == 0x58 && in(DAY) == 0x29, "what was written is there");
    out(B, b);
    out(A, a);
    check_time(1709251198);
    pass(TSC_HZ / 2 - 1000);
    check_time(1709251198);
    pass(1000);
    check_time(1709251199); /* half a second after the divider's reset */
    pass(TSC_HZ);
    check_time(1709251200); /* 1 March */
}

/* SET alone stops the registers, not the divider: seconds go on where they did. */
static void set_keeps_the_phase(void)
{
    reset(1000000000);
    pass(TSC_HZ / 4);
    out(B, 0x82);
    pass(3 * TSC_HZ);
    CHECK(!(in(A)&0x80), "no update");
    out(B, 0x02);
    check_time(1000000000);
    pass(TSC_HZ * 3 / 4 - 1000);
    check_time(1000000000);
    pass(1000);
    check_time(1000000001);
    out(SEC, 0x10); /* without SET */
    CHECK(in(SEC) == 0x10 && in(MIN) == 0x46, "one register");
    pass(TSC_HZ);
    CHECK(in(SEC) == 0x11, "goes on from there");
}

/* UIP is set for at least 244 us before the registers change, and they are read right when it is
 * not. */
static void update_in_progress(void)
{
    reset(0);
    uint64_t set = 0;
    CHECK(!(in(A)&0x80), "a second has begun");
    for (unsigned i = 0; i < CLOCK_HZ; i++, pass(1000))
        set += (in(A)&0x80) != 0;
    CHECK(set == 73, "UIP in %llu of 32768 ticks", (unsigned long long)set);
    CHECK(!(in(A)&0x80) && in(SEC) == 1, "the update has ended");
}

/* From event to event until `end`; returns how many there were. `ack`: C is read after each. */
static unsigned run_until(uint64_t end, bool ack)
{
    unsigned events = 0;

    while (rtc_next_event(&rtc) <= end) {
        CHECK(rtc_next_event(&rtc) > now, "an event in the past");
        now = rtc_next_event(&rtc);
        rtc_tick(&rtc, now - 1);
        CHECK(!lamp.on, "too early");
        rtc_tick(&rtc, now);
        CHECK(lamp.on, "an event is an interrupt");
        events++;
        if (ack)
            in(C);
    }
    now = end;
    return events;
}

static void periodic_interrupts(void)
{
    static const unsigned hz[] = {0,   256, 128, 8192, 4096, 2048, 1024, 512,
                                  256, 128, 64,  32,   16,   8,    4,    2};

    for (unsigned rate = 0; rate < 16; rate++) {
        reset(0);
        out(A, (uint8_t)(0x20 | rate));
        CHECK(rtc_next_event(&rtc) == NO_EVENT, "not enabled");
        out(B, 0x42);
        unsigned got = run_until(now + 2 * TSC_HZ, true);
        CHECK(got == 2 * hz[rate], "rate %u: %u", rate, got);
    }
    CHECK(run_until(now + TSC_HZ, false) == 1 && rtc_next_event(&rtc) == NO_EVENT,
          "no other before C is read");
    CHECK(in(C) == 0xc0 + 0x10 && in(C) == 0 && !lamp.on, "C says which, once");
    pass(1000 * TSC_HZ);
    CHECK(lamp.rises == 2 * 2 + 2, "a pause makes one: %u", lamp.rises);
    out(A, 0x76);
    in(C);
    CHECK(rtc_next_event(&rtc) == NO_EVENT, "the divider is held in reset");
}

static void update_interrupts(void)
{
    reset(0);
    pass(TSC_HZ / 2);
    out(B, 0x12);
    uint64_t left = rtc_next_event(&rtc) - now;
    CHECK(left <= TSC_HZ / 2 && left > TSC_HZ / 2 - 1000, "at the end of the second");
    CHECK(run_until(now + 10 * TSC_HZ, true) == 10, "each second");
    pass(TSC_HZ);
    CHECK(in(C) == 0x90 + 0x40, "UF, and PF that nobody asked for");
    out(B, 0x92);
    CHECK(!(in(B)&0x10), "SET clears UIE");
    pass(5 * TSC_HZ);
    CHECK(!(in(C)&0x10), "no update while SET");
}

/* The first second after `from` that the alarm asks for, found one by one. */
static uint64_t find_alarm(uint64_t from, uint8_t hour, uint8_t minute, uint8_t second)
{
    for (uint64_t t = from + 1; t <= from + 86400; t++) {
        if ((second >= 0xc0 || bcd(second) == t % 60) &&
            (minute >= 0xc0 || bcd(minute) == t / 60 % 60) &&
            (hour >= 0xc0 || bcd(hour) == t / 3600 % 24))
            return t;
    }
    return 0;
}

static uint8_t alarm_value(uint64_t *random, unsigned end)
{
    unsigned value = (unsigned)(test_random(random) % end);

    return test_random(random) % 3 == 0 ? 0xc0 + (uint8_t)value
                                        : (uint8_t)(value / 10 << 4 | value % 10);
}

static void alarms(void)
{
    uint64_t random = 7;

    for (unsigned i = 0; i < 1000; i++) {
        uint64_t from = 1000000000 + test_random(&random) % 86400;
        uint8_t hour = alarm_value(&random, 25), minute = alarm_value(&random, 61),
                second = alarm_value(&random, 61);
        reset(from);
        out(HOUR_ALARM, hour), out(MIN_ALARM, minute), out(SEC_ALARM, second);
        out(B, 0x22);
        uint64_t found = find_alarm(from, hour, minute, second);
        uint64_t expected = found ? now + (found - from) * TSC_HZ : NO_EVENT;
        /* The clock's ticks are whole ones of the TSC, its start is not. */
        uint64_t event = rtc_next_event(&rtc);
        CHECK(found ? event <= expected && expected - event < 1000 : event == NO_EVENT,
              "%02x:%02x:%02x from %llu", hour, minute, second, (unsigned long long)from);
        if (!found)
            continue;
        pass(event - now - 1);
        CHECK(!lamp.on && !(in(C)&0x20), "too early");
        pass(1);
        CHECK(lamp.on && (in(C)&0x20), "now");
    }
    reset(1000000000); /* 01:46:40 */
    out(B, 0x20);      /* 12 hours */
    out(HOUR_ALARM, 0x81), out(MIN_ALARM, 0x46), out(SEC_ALARM, 0x40);
    pass(12 * 3600 * TSC_HZ - 1000);
    CHECK(!lamp.on, "not in the morning");
    pass(1000);
    CHECK(lamp.on, "1 p.m.");
}

static void flags_without_interrupts(void)
{
    reset(0);
    pass(3 * TSC_HZ);
    CHECK(in(C) == 0x50 && !lamp.on, "PF and UF, but no IRQF: 0x%x", in(C));
    pass(3 * TSC_HZ);
    out(B, 0x42);
    CHECK(lamp.on, "enabled when the flag is set: at once");
    rtc_reset(&rtc);
    CHECK(!lamp.on && in(B) == 0x02 && in(C) == 0, "reset");
    check_time(6);
}

static void cmos_ram(void)
{
    unsigned sum = 0;

    reset(0);
    CHECK(in(D) == 0x80 && rtc_read(&rtc, 0x70, now) == 0xff, "valid; the index is write only");
    out(D, 0), out(C, 0xff);
    CHECK(in(D) == 0x80 && in(C) == 0, "read only");
    CHECK((in(0x15) | in(0x16) << 8) == 640, "base memory");
    CHECK((in(0x17) | in(0x18) << 8) == 0xffff && (in(0x30) | in(0x31) << 8) == 0xffff,
          "extended memory: more than it can say");
    CHECK((in(0x34) | in(0x35) << 8) == (1024 - 16) * 16, "from 16 MiB to 4 GiB");
    CHECK((in(0x5b) | in(0x5c) << 8 | in(0x5d) << 16) == 5 * 16384, "above 4 GiB");
    for (uint8_t i = 0x10; i < 0x2e; i++)
        sum += in(i);
    CHECK((in(0x2e) << 8 | in(0x2f)) == (int)sum, "check sum");
    for (uint8_t i = 0x0e; i < 0x80; i++) {
        if (i != CENTURY)
            out(i, (uint8_t)(i * 3));
    }
    for (uint8_t i = 0x0e; i < 0x80; i++)
        CHECK(i == CENTURY || in(i) == (uint8_t)(i * 3), "RAM at 0x%x", i);
}

/* Whatever is written as time, it stays a clock. */
static void nonsense_is_harmless(void)
{
    uint64_t random = 3;

    for (unsigned i = 0; i < 100000; i++) {
        if (i % 100 == 0)
            reset(test_random(&random) % 4000000000u);
        if (test_random(&random) % 4)
            out((uint8_t)(test_random(&random) % 12), (uint8_t)test_random(&random));
        else
            out(CENTURY, (uint8_t)test_random(&random));
        pass(test_random(&random) % (100000 * TSC_HZ));
        in((uint8_t)(test_random(&random) % 14));
        CHECK(rtc_next_event(&rtc) > now, "an event in the past");
    }
}

int main(void)
{
    RUN(it_tells_the_time);
    RUN(formats);
    RUN(it_is_set);
    RUN(set_keeps_the_phase);
    RUN(update_in_progress);
    RUN(periodic_interrupts);
    RUN(update_interrupts);
    RUN(alarms);
    RUN(flags_without_interrupts);
    RUN(cmos_ram);
    RUN(nonsense_is_harmless);
    return test_status();
}
