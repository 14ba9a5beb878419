/* SPDX-License-Identifier: BSD-2-Clause */
/* See rtc.h. Register and bit names are the MC146818A data sheet's. */
#include "hv/dev/rtc.h"

#include "hv/dev/clock.h"
#include "hv/types.h"

#define PORT_INDEX 0x70u
#define INDEX_BITS 0x7fu /* bit 7 masks NMIs, of which there are none */

/* Registers */
enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    DAY_OF_WEEK, /* 1: Sunday */
    DAY_OF_MONTH,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
};

#define A_UIP           0x80u
#define A_DIVIDER(a)    ((a) >> 4 & 7)
#define A_RATE(a)       ((a)&15u)
#define A_32768_HZ_1024 0x26u /* the time base of PCs, and a rate of 1024 Hz */
#define DIVIDER_RESET   6u    /* and 7 */

#define B_SET     0x80u
#define B_PIE     0x40u /* periodic interrupt; the same bits as flags in register C */
#define B_AIE     0x20u /* alarm */
#define B_UIE     0x10u /* update ended */
#define B_SQWE    0x08u
#define B_BINARY  0x04u
#define B_24_HOUR 0x02u
#define B_ENABLES (B_PIE | B_AIE | B_UIE)
#define C_IRQF    0x80u
#define D_VRT     0x80u /* the battery is good */

#define HOUR_PM   0x80u
#define ALARM_ANY 0xc0u /* from here on: don't care */

/* The CMOS RAM of a PC */
#define CMOS_EQUIPMENT     0x14u
#define CMOS_BASE_KIB      0x15u /* 2 bytes, low first, as the others */
#define CMOS_EXTENDED_KIB  0x17u /* from 1 MiB on */
#define CMOS_CHECKED       0x10u /* first byte of those that the check sum covers */
#define CMOS_CHECK_SUM     0x2eu /* 2 bytes, high first */
#define CMOS_EXTENDED_KIB2 0x30u
#define CMOS_CENTURY       0x32u
#define CMOS_ABOVE_16M     0x34u /* in 64 KiB */
#define CMOS_ABOVE_4G      0x5bu /* in 64 KiB; 3 bytes */
#define EQUIPMENT_FPU      0x02u
#define BASE_KIB           640u

#define CLOCK_HZ       32768u /* and ticks of a second */
#define UPDATE_CLOCKS  73u    /* UIP is set for so long before an update ends: 244 + 1984 us */
#define FIRST_UPDATE   (CLOCK_HZ / 2) /* after the divider's reset */
#define DAY_SECONDS    86400
#define HOUR_SECONDS   3600
#define MINUTE_SECONDS 60

static uint64_t tick_at(const struct rtc *rtc, uint64_t now)
{
    return clock_ticks(now, CLOCK_HZ, rtc->tsc_hz);
}

/* --- the calendar ----------------------------------------------------------------------------- */

struct date {
    int64_t year;
    unsigned month, day; /* from 1 */
};

/* Years that begin in March have their leap day at the end; 400 of them are one era. */
#define ERA_YEARS  400
#define ERA_DAYS   146097
#define EPOCH_DAYS 719468 /* from 0000-03-01 to 1970-01-01 */
#define MARCH      3u
#define MONTHS     12u

/* Days of such a year before month `m` (0: March). */
static unsigned days_before(unsigned m)
{
    return (153 * m + 2) / 5;
}

static int64_t days_from(struct date date)
{
    int64_t year = date.year - (date.month < MARCH);
    int64_t era = (year >= 0 ? year : year - (ERA_YEARS - 1)) / ERA_YEARS;
    int64_t of_era = year - era * ERA_YEARS;
    unsigned m = (date.month + MONTHS - MARCH) % MONTHS;

    return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + days_before(m) + date.day -
           1 - EPOCH_DAYS;
}

static struct date date_from(int64_t days)
{
    int64_t since = days + EPOCH_DAYS;
    int64_t era = (since >= 0 ? since : since - (ERA_DAYS - 1)) / ERA_DAYS;
    int64_t of_era = since - era * ERA_DAYS;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = (unsigned)(of_era - (365 * year + year / 4 - year / 100));
    unsigned m = (5 * of_year + 2) / 153;
    unsigned month = (m + MARCH - 1) % MONTHS + 1;

    return (struct date){.year = era * ERA_YEARS + year + (month < MARCH),
                         .month = month,
                         .day = of_year - days_before(m) + 1};
}

/* --- the time's registers --------------------------------------------------------------------- */

static uint8_t encode(const struct rtc *rtc, unsigned value)
{
    return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static unsigned decode(const struct rtc *rtc, uint8_t value)
{
    return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode_hour(const struct rtc *rtc, unsigned hour)
{
    if (rtc->cmos[REG_B] & B_24_HOUR)
        return encode(rtc, hour);
    return encode(rtc, hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *rtc, uint8_t value)
{
    if (rtc->cmos[REG_B] & B_24_HOUR)
        return decode(rtc, value);
    return decode(rtc, value & (uint8_t)~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0);
}

static void split(int64_t seconds, int64_t *days, unsigned *of_day)
{
    *days = (seconds >= 0 ? seconds : seconds - (DAY_SECONDS - 1)) / DAY_SECONDS;
    *of_day = (unsigned)(seconds - *days * DAY_SECONDS);
}

static bool is_running(const struct rtc *rtc)
{
    return !(rtc->cmos[REG_B] & B_SET) && A_DIVIDER(rtc->cmos[REG_A]) < DIVIDER_RESET;
}

static int64_t seconds_at(const struct rtc *rtc, uint64_t tick)
{
    return rtc->seconds + (int64_t)((tick - rtc->since) / CLOCK_HZ);
}

/* Write `seconds` to the registers. */
static void store_time(struct rtc *rtc, int64_t seconds)
{
    uint8_t *cmos = rtc->cmos;
    unsigned of_day;
    int64_t days;

    split(seconds, &days, &of_day);
    struct date date = date_from(days);
    cmos[SECONDS] = encode(rtc, of_day % 60);
    cmos[MINUTES] = encode(rtc, of_day / MINUTE_SECONDS % 60);
    cmos[HOURS] = encode_hour(rtc, of_day / HOUR_SECONDS);
    cmos[DAY_OF_WEEK] = encode(rtc, (unsigned)(((days + 4) % 7 + 7) % 7) + 1);
    cmos[DAY_OF_MONTH] = encode(rtc, date.day);
    cmos[MONTH] = encode(rtc, date.month);
    cmos[YEAR] = encode(rtc, (unsigned)(date.year % 100));
    cmos[CMOS_CENTURY] = encode(rtc, (unsigned)(date.year / 100 % 100));
}

/* What the registers say; where they say what is no time, some time. */
static int64_t load_time(const struct rtc *rtc)
{
    const uint8_t *cmos = rtc->cmos;
    unsigned month = decode(rtc, cmos[MONTH]);
    struct date date = {.year = decode(rtc, cmos[CMOS_CENTURY]) * 100 + decode(rtc, cmos[YEAR]),
                        .month = month < 1 || month > MONTHS ? 1 : month,
                        .day = decode(rtc, cmos[DAY_OF_MONTH])};

    return days_from(date) * DAY_SECONDS + decode_hour(rtc, cmos[HOURS]) * HOUR_SECONDS +
           decode(rtc, cmos[MINUTES]) * MINUTE_SECONDS + decode(rtc, cmos[SECONDS]);
}

/* --- alarm, flags, events --------------------------------------------------------------------- */

/* The first value from `from` on, below `end`, that an alarm register asks for; `end`: none. */
static unsigned alarm_match(bool any, unsigned wanted, unsigned from, unsigned end)
{
    if (any)
        return from;
    return wanted >= from && wanted < end ? wanted : end;
}

/* The first second of a day, from `from` on, at which the alarm goes off; DAY_SECONDS: none. */
static unsigned alarm_in_day(const struct rtc *rtc, unsigned from)
{
    const uint8_t *cmos = rtc->cmos;
    bool any_second = cmos[SECONDS_ALARM] >= ALARM_ANY;
    bool any_minute = cmos[MINUTES_ALARM] >= ALARM_ANY;
    bool any_hour = cmos[HOURS_ALARM] >= ALARM_ANY;
    unsigned second = decode(rtc, cmos[SECONDS_ALARM]);
    unsigned minute = decode(rtc, cmos[MINUTES_ALARM]);
    unsigned hour = decode_hour(rtc, cmos[HOURS_ALARM]);

    if ((!any_second && second > 59) || (!any_minute && minute > 59) || (!any_hour && hour > 23))
        return DAY_SECONDS;
    /* Seconds that are left of this minute, minutes that are left of this hour, the next hours. */
    while (from < DAY_SECONDS) {
        unsigned h = alarm_match(any_hour, hour, from / HOUR_SECONDS, 24);
        if (h != from / HOUR_SECONDS) {
            from = h * HOUR_SECONDS;
            continue;
        }
        unsigned m = alarm_match(any_minute, minute, from / MINUTE_SECONDS % 60, 60);
        if (m != from / MINUTE_SECONDS % 60) {
            from = h * HOUR_SECONDS + m * MINUTE_SECONDS;
            continue;
        }
        unsigned s = alarm_match(any_second, second, from % 60, 60);
        if (s < 60)
            return h * HOUR_SECONDS + m * MINUTE_SECONDS + s;
        from = h * HOUR_SECONDS + (m + 1) * MINUTE_SECONDS;
    }
    return DAY_SECONDS;
}

/* Seconds from the time `seconds` until the alarm goes off, at least 1; 0: never. */
static unsigned seconds_to_alarm(const struct rtc *rtc, int64_t seconds)
{
    unsigned of_day;
    int64_t days;

    split(seconds, &days, &of_day);
    unsigned today = alarm_in_day(rtc, of_day + 1);
    if (today < DAY_SECONDS)
        return today - of_day;
    unsigned tomorrow = alarm_in_day(rtc, 0);
    return tomorrow < DAY_SECONDS ? DAY_SECONDS - of_day + tomorrow : 0;
}

/* Ticks between periodic interrupts; 0: none. Rates 1 and 2 are 256 and 128 Hz (table 5). */
static uint64_t period(const struct rtc *rtc)
{
    unsigned rate = A_RATE(rtc->cmos[REG_A]);

    if (rate == 0 || A_DIVIDER(rtc->cmos[REG_A]) >= DIVIDER_RESET)
        return 0;
    return 1ull << (rate <= 2 ? rate + 6 : rate - 1);
}

static bool is_asserted(const struct rtc *rtc)
{
    return (rtc->cmos[REG_C] & rtc->cmos[REG_B] & B_ENABLES) != 0;
}

/* Set the flags of what was until `tick`, whether or not they interrupt. */
static void advance(struct rtc *rtc, uint64_t tick)
{
    uint64_t before = rtc->seen - rtc->since, after = tick - rtc->since;
    uint64_t updates = after / CLOCK_HZ - before / CLOCK_HZ;
    uint64_t p = period(rtc);

    if (p && after / p != before / p)
        rtc->cmos[REG_C] |= B_PIE;
    if (is_running(rtc) && updates > 0) {
        unsigned alarm = seconds_to_alarm(rtc, seconds_at(rtc, rtc->seen));
        rtc->cmos[REG_C] |= B_UIE;
        if (alarm > 0 && alarm <= updates)
            rtc->cmos[REG_C] |= B_AIE;
    }
    rtc->seen = tick;
    irq_set(&rtc->irq, is_asserted(rtc));
}

void rtc_tick(struct rtc *rtc, uint64_t now)
{
    advance(rtc, tick_at(rtc, now));
}

uint64_t rtc_next_event(const struct rtc *rtc)
{
    uint8_t enabled = rtc->cmos[REG_B];
    uint64_t passed = rtc->seen - rtc->since;
    uint64_t p = period(rtc), soonest = NO_EVENT;

    if (!(enabled & B_ENABLES) || is_asserted(rtc))
        return NO_EVENT;
    if ((enabled & B_PIE) && p)
        soonest = p - passed % p;
    if (is_running(rtc)) {
        uint64_t update = CLOCK_HZ - passed % CLOCK_HZ;
        unsigned alarm = enabled & B_AIE ? seconds_to_alarm(rtc, seconds_at(rtc, rtc->seen)) : 0;
        if (enabled & B_UIE)
            soonest = min_u64(soonest, update);
        if (alarm > 0)
            soonest = min_u64(soonest, update + (uint64_t)(alarm - 1) * CLOCK_HZ);
    }
    return soonest == NO_EVENT ? NO_EVENT : clock_time(rtc->seen + soonest, CLOCK_HZ, rtc->tsc_hz);
}

/* --- ports ------------------------------------------------------------------------------------ */

static bool is_time(unsigned index)
{
    switch (index) {
    case SECONDS:
    case MINUTES:
    case HOURS:
    case DAY_OF_WEEK:
    case DAY_OF_MONTH:
    case MONTH:
    case YEAR:
    case CMOS_CENTURY:
        return true;
    default:
        return false;
    }
}

static uint8_t read_a(const struct rtc *rtc, uint64_t tick)
{
    bool updates = is_running(rtc) && (tick - rtc->since) % CLOCK_HZ >= CLOCK_HZ - UPDATE_CLOCKS;

    return rtc->cmos[REG_A] | (updates ? A_UIP : 0);
}

/* Reading clears it. */
static uint8_t read_c(struct rtc *rtc)
{
    uint8_t value = rtc->cmos[REG_C] | (is_asserted(rtc) ? C_IRQF : 0);

    rtc->cmos[REG_C] = 0;
    irq_set(&rtc->irq, false);
    return value;
}

uint8_t rtc_read(struct rtc *rtc, uint16_t port, uint64_t now)
{
    uint64_t tick = tick_at(rtc, now);

    if (port == PORT_INDEX)
        return 0xff; /* write only */
    advance(rtc, tick);
    if (rtc->index == REG_A)
        return read_a(rtc, tick);
    if (rtc->index == REG_C)
        return read_c(rtc);
    if (is_time(rtc->index) && is_running(rtc))
        store_time(rtc, seconds_at(rtc, tick));
    return rtc->cmos[rtc->index];
}

/* A or B is written. The time stops in the registers, and goes on from there: with SET in the phase
 * that the divider kept, after the divider's reset half a second before an update. */
static void write_control(struct rtc *rtc, unsigned index, uint8_t value, uint64_t tick)
{
    bool was_running = is_running(rtc);
    bool was_reset = A_DIVIDER(rtc->cmos[REG_A]) >= DIVIDER_RESET;

    if (was_running)
        store_time(rtc, seconds_at(rtc, tick));
    if (index == REG_A)
        rtc->cmos[REG_A] = value & (uint8_t)~A_UIP;
    else /* SET clears UIE */
        rtc->cmos[REG_B] = value & B_SET ? value & (uint8_t)~B_UIE : value;
    if (was_reset && A_DIVIDER(rtc->cmos[REG_A]) < DIVIDER_RESET)
        rtc->since = tick - FIRST_UPDATE;
    if (!was_running && is_running(rtc)) {
        rtc->since += (tick - rtc->since) / CLOCK_HZ * CLOCK_HZ;
        rtc->seconds = load_time(rtc);
    }
}

static void write_time(struct rtc *rtc, unsigned index, uint8_t value, uint64_t tick)
{
    if (!is_running(rtc)) {
        rtc->cmos[index] = value;
        return;
    }
    store_time(rtc, seconds_at(rtc, tick));
    rtc->cmos[index] = value;
    rtc->since += (tick - rtc->since) / CLOCK_HZ * CLOCK_HZ;
    rtc->seconds = load_time(rtc);
}

void rtc_write(struct rtc *rtc, uint16_t port, uint8_t value, uint64_t now)
{
    uint64_t tick = tick_at(rtc, now);

    if (port == PORT_INDEX) {
        rtc->index = value & INDEX_BITS;
        return;
    }
    advance(rtc, tick);
    if (rtc->index == REG_A || rtc->index == REG_B)
        write_control(rtc, rtc->index, value, tick);
    else if (is_time(rtc->index))
        write_time(rtc, rtc->index, value, tick);
    else if (rtc->index != REG_C && rtc->index != REG_D)
        rtc->cmos[rtc->index] = value;
    irq_set(&rtc->irq, is_asserted(rtc));
}

/* --- power-on and resets ---------------------------------------------------------------------- */

static void put16(struct rtc *rtc, unsigned index, uint64_t value)
{
    uint64_t most = min_u64(value, 0xffff);

    rtc->cmos[index] = (uint8_t)most;
    rtc->cmos[index + 1] = (uint8_t)(most >> 8);
}

/* How much RAM there is, in the places that firmware and loaders know. */
static void describe_ram(struct rtc *rtc, uint64_t low, uint64_t high)
{
    uint64_t extended_kib = low > MIB(1) ? (low - MIB(1)) / KIB(1) : 0;
    uint64_t above_4g = high / KIB(64);
    unsigned sum = 0;

    rtc->cmos[CMOS_EQUIPMENT] = EQUIPMENT_FPU;
    put16(rtc, CMOS_BASE_KIB, BASE_KIB);
    put16(rtc, CMOS_EXTENDED_KIB, extended_kib);
    put16(rtc, CMOS_EXTENDED_KIB2, extended_kib);
    put16(rtc, CMOS_ABOVE_16M, low > MIB(16) ? (low - MIB(16)) / KIB(64) : 0);
    put16(rtc, CMOS_ABOVE_4G, above_4g & 0xffff);
    rtc->cmos[CMOS_ABOVE_4G + 2] = (uint8_t)min_u64(above_4g >> 16, 0xff);
    for (unsigned i = CMOS_CHECKED; i < CMOS_CHECK_SUM; i++)
        sum += rtc->cmos[i];
    rtc->cmos[CMOS_CHECK_SUM] = (uint8_t)(sum >> 8);
    rtc->cmos[CMOS_CHECK_SUM + 1] = (uint8_t)sum;
}

void rtc_init(struct rtc *rtc, uint64_t tsc_hz, uint64_t now, uint64_t wall_seconds, uint64_t low,
              uint64_t high, const struct irq_line *irq)
{
    *rtc = (struct rtc){.tsc_hz = tsc_hz, .irq = *irq, .seconds = (int64_t)wall_seconds};
    rtc->since = rtc->seen = tick_at(rtc, now);
    rtc->cmos[REG_A] = A_32768_HZ_1024;
    rtc->cmos[REG_B] = B_24_HOUR;
    rtc->cmos[REG_D] = D_VRT;
    describe_ram(rtc, low, high);
}

void rtc_reset(struct rtc *rtc)
{
    rtc->cmos[REG_B] &= (uint8_t) ~(B_ENABLES | B_SQWE);
    rtc->cmos[REG_C] = 0;
    irq_set(&rtc->irq, false);
}
