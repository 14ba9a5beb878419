/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of the real-time clock and the CMOS RAM (MC146818A data sheet), IRQ 8 by way of the
 * i8259s. */
#include "guest-tests/multiboot/platform/platform.h"

#define RTC_SECONDS       0x00u
#define RTC_SECONDS_ALARM 0x01u
#define RTC_MINUTES       0x02u
#define RTC_MINUTES_ALARM 0x03u
#define RTC_HOURS         0x04u
#define RTC_HOURS_ALARM   0x05u
#define RTC_DAY           0x07u
#define RTC_MONTH         0x08u
#define RTC_YEAR          0x09u
#define RTC_A             0x0au
#define RTC_B             0x0bu
#define RTC_C             0x0cu
#define RTC_D             0x0du

#define A_UIP      0x80u
#define A_1024_HZ  0x26u
#define B_SET      0x80u
#define B_PIE      0x40u
#define B_AIE      0x20u
#define B_UIE      0x10u
#define B_BINARY   0x04u
#define B_24_HOURS 0x02u
#define C_IRQF     0x80u
#define C_PF       0x40u
#define C_AF       0x20u
#define C_UF       0x10u
#define D_VALID    0x80u
#define ALARM_ANY  0xffu
#define HOURS_PM   0x80u

#define VECTOR_RTC (VECTOR_PIC + 8)

/* CMOS RAM that no firmware uses. */
#define CMOS_FREE  0x70u
#define CMOS_BYTES 8u

static uint8_t last_c, all_c;

static void note_c(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    last_c = cmos_read(RTC_C);
    all_c |= last_c;
    acknowledge(vector);
}

static void leave_c(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    acknowledge(vector);
}

static void listen_to_rtc(vector_handler *handler)
{
    all_c = 0;
    set_handler(VECTOR_RTC, handler);
    (void)cmos_read(RTC_C);
    pic_connect();
    pic_unmask(8);
}

static void enable(uint8_t bits)
{
    cmos_write(RTC_B, (uint8_t)((cmos_read(RTC_B) & ~(B_PIE | B_AIE | B_UIE)) | bits));
}

static bool is_bcd(uint8_t value)
{
    return (value & 0xf) <= 9 && value >> 4 <= 9;
}

/* A time field's number in the format that register B says; 100 for what is no number of its
 * format. */
static unsigned number(uint8_t value)
{
    if (cmos_read(RTC_B) & B_BINARY)
        return value;
    return is_bcd(value) ? 10u * (value >> 4) + (value & 0xf) : 100;
}

static uint8_t in_format(unsigned value)
{
    return (uint8_t)(cmos_read(RTC_B) & B_BINARY ? value : value / 10 << 4 | value % 10);
}

/* "Time, calendar and alarm locations": the fields are within their ranges, in the format of
 * register B. */
static const char *fields(void)
{
    EXPECT(WAIT_UNTIL(!(cmos_read(RTC_A) & A_UIP), BOUND_US), "an update does not end");
    unsigned hours = number(cmos_read(RTC_HOURS) & (uint8_t)~HOURS_PM);
    unsigned day = number(cmos_read(RTC_DAY)), month = number(cmos_read(RTC_MONTH));

    EXPECT(cmos_read(RTC_D) & D_VALID, "register D: the time is not valid");
    EXPECT(!(cmos_read(RTC_B) & B_SET), "register B: the clock stands");
    EXPECT(number(cmos_read(RTC_SECONDS)) < 60, "seconds");
    EXPECT(number(cmos_read(RTC_MINUTES)) < 60, "minutes");
    EXPECT(hours < 24 && (cmos_read(RTC_B) & B_24_HOURS || (hours >= 1 && hours <= 12)), "hours");
    EXPECT(day >= 1 && day <= 31, "day");
    EXPECT(month >= 1 && month <= 12, "month");
    EXPECT(number(cmos_read(RTC_YEAR)) < 100, "year");
    return NULL;
}

/* The CMOS RAM holds what is written, each byte for itself. */
static const char *cmos_ram(void)
{
    uint8_t before[CMOS_BYTES];
    bool same = true;

    for (unsigned i = 0; i < CMOS_BYTES; i++)
        before[i] = cmos_read((uint8_t)(CMOS_FREE + i));
    for (unsigned i = 0; i < CMOS_BYTES; i++)
        cmos_write((uint8_t)(CMOS_FREE + i), (uint8_t)(0xc3 + 17 * i));
    for (unsigned i = 0; i < CMOS_BYTES; i++)
        same &= cmos_read((uint8_t)(CMOS_FREE + i)) == (uint8_t)(0xc3 + 17 * i);
    for (unsigned i = 0; i < CMOS_BYTES; i++)
        cmos_write((uint8_t)(CMOS_FREE + i), before[i]);
    EXPECT(same, "a byte of the CMOS RAM changed");
    return NULL;
}

/* "Periodic interrupt": 1024 a second, and none before register C has been read. */
static const char *periodic(void)
{
    cmos_write(RTC_A, A_1024_HZ);
    listen_to_rtc(leave_c);
    enable(B_PIE);
    EXPECT(wait_count(VECTOR_RTC, 1, BOUND_US), "no IRQ 8");
    listen_us(4000);
    EXPECT_EQ(cpus[0].counts[VECTOR_RTC], 1, "IRQ 8 comes again before register C is read");
    EXPECT_EQ(cmos_read(RTC_C) & (C_IRQF | C_PF), C_IRQF | C_PF, "register C");
    set_handler(VECTOR_RTC, note_c);
    uint64_t start = rdtsc();
    EXPECT(wait_count(VECTOR_RTC, 21, BOUND_US), "IRQ 8 does not go on");
    /* 20 periods, of which the first has begun. */
    EXPECT((uint32_t)(rdtsc() - start) >= (uint32_t)ticks_of_us(18 * 1000000 / 1024),
           "IRQ 8 comes too early");
    EXPECT(last_c & C_IRQF, "register C in the handler: IRQF");
    enable(0);
    listen_us(100);
    uint32_t before = cpus[0].counts[VECTOR_RTC];
    listen_us(3000);
    EXPECT_EQ(cpus[0].counts[VECTOR_RTC], before, "IRQ 8 comes while it is disabled");
    return NULL;
}

/* The rate of the periodic interrupt against the TSC. Up to 50 attempts: an emulator that is held
 * up loses some. */
static const char *periodic_rate(void)
{
    const uint32_t periods = 8, due = periods * 1000000 / 1024;
    uint32_t us = 0;

    cmos_write(RTC_A, A_1024_HZ);
    listen_to_rtc(note_c);
    enable(B_PIE);
    for (unsigned attempt = 0; attempt < 50; attempt++) {
        uint32_t first = cpus[0].counts[VECTOR_RTC] + 1;
        EXPECT(wait_count(VECTOR_RTC, first, BOUND_US), "no IRQ 8");
        uint64_t start = cpus[0].last_tsc[VECTOR_RTC];
        EXPECT(wait_count(VECTOR_RTC, first + periods, BOUND_US), "IRQ 8 does not go on");
        us = mul_div((uint32_t)(cpus[0].last_tsc[VECTOR_RTC] - start), 1000, tsc_khz);
        if (is_about(us, due, 5) || (is_busy && us > due))
            return NULL;
    }
    EXPECT_EQ(us, due, "microseconds of 8 periods");
    return NULL;
}

/* Until the update after the one that runs; notes whether UIP was seen. */
static const char *wait_update(bool *uip)
{
    uint32_t before = cpus[0].counts[VECTOR_RTC];

    interrupts_on();
    struct deadline d = deadline_in(1000000);
    while (cpus[0].counts[VECTOR_RTC] == before && !is_over(&d))
        *uip |= (cmos_read(RTC_A) & A_UIP) != 0;
    /* The second itself, and then the time that an emulator may be late. */
    bool came = wait_count(VECTOR_RTC, before + 1, BOUND_US / 2);
    interrupts_off();
    EXPECT(came, "no update within a second");
    return NULL;
}

static const char *one_update(bool *alarm, bool *uip, unsigned *step)
{
    unsigned before = number(cmos_read(RTC_SECONDS));

    cmos_write(RTC_SECONDS_ALARM, in_format((before + 1) % 60));
    cmos_write(RTC_MINUTES_ALARM, ALARM_ANY);
    cmos_write(RTC_HOURS_ALARM, ALARM_ANY);
    listen_to_rtc(note_c);
    enable(B_AIE | B_UIE);
    EXPECT_OK(wait_update(uip));
    enable(0);
    EXPECT(all_c & C_UF, "register C: UF");
    *alarm = (all_c & C_AF) != 0;
    *step = (number(cmos_read(RTC_SECONDS)) + 60 - before) % 60;
    return NULL;
}

/* "Update cycle": UIP before it, the update-ended interrupt after it, the seconds go on, and the
 * alarm for the new second comes with it. Several attempts: an emulator may miss the 244 us of UIP,
 * and a second may end while the alarm is set. */
static const char *update(void)
{
    bool alarm = false, uip = false;
    unsigned step = 0;

    for (unsigned attempt = 0; attempt < 3; attempt++) {
        alarm = uip = false;
        EXPECT_OK(one_update(&alarm, &uip, &step));
        if (alarm && (uip || is_busy) && step == 1)
            break;
    }
    EXPECT_EQ(step, 1, "seconds from one update to the next");
    EXPECT(uip || is_busy, "register A: UIP was never set before an update");
    EXPECT(alarm, "register C: no AF for the new second");
    return NULL;
}

/* "Alarm": none for another second than the one that begins. */
static const char *no_alarm(void)
{
    bool uip = false;

    cmos_write(RTC_SECONDS_ALARM, in_format((number(cmos_read(RTC_SECONDS)) + 30) % 60));
    cmos_write(RTC_MINUTES_ALARM, ALARM_ANY);
    cmos_write(RTC_HOURS_ALARM, ALARM_ANY);
    listen_to_rtc(note_c);
    enable(B_UIE);
    EXPECT_OK(wait_update(&uip));
    EXPECT(all_c & C_UF, "register C: UF");
    EXPECT(!(all_c & C_AF), "register C: AF for a second that is 30 away");
    return NULL;
}

const struct check rtc_checks[] = {
    {"rtc-fields", fields, false},
    {"rtc-cmos-ram", cmos_ram, false},
    {"rtc-periodic", periodic, false},
    {"rtc-periodic-rate", periodic_rate, false},
    {"rtc-update", update, true},
    {"rtc-no-alarm", no_alarm, true},
    {0},
};
