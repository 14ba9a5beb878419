/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The real-time clock of a PC (Motorola MC146818) and its CMOS RAM, ports 0x70 and 0x71: time in
 * binary or BCD, 12 or 24 hours, century in byte 0x32; alarm, periodic and update interrupts on
 * IRQ 8. Daylight saving and the square-wave output are not there, and the day of the week is that
 * of the date, whatever is written.
 */
#ifndef HV_DEV_RTC_H
#define HV_DEV_RTC_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/dev/irq.h"

#define RTC_BYTES 128u

struct rtc {
    struct irq_line irq;
    uint64_t tsc_hz;
    uint8_t index; /* port 0x70 */
    /* Registers and RAM. Those of the time hold it while it is stopped only: by SET, or by the
     * reset of the divider. */
    uint8_t cmos[RTC_BYTES];
    int64_t seconds; /* the time, since 1970, at tick `since` of the 32768-Hz clock */
    uint64_t since;  /* where a second begins: the divider's phase; wraps */
    uint64_t seen;   /* tick up to which flags of register C are set */
};

/* `wall_seconds`: the time, in seconds since 1970, at guest TSC `now`. `low`, `high`: bytes of RAM
 * below and above 4 GiB, for the bytes that say so. */
void rtc_init(struct rtc *rtc, uint64_t tsc_hz, uint64_t now, uint64_t wall_seconds, uint64_t low,
              uint64_t high, const struct irq_line *irq);

/* The RESET pin: interrupts are disabled; time and RAM stay. */
void rtc_reset(struct rtc *rtc);

uint8_t rtc_read(struct rtc *rtc, uint16_t port, uint64_t now);
void rtc_write(struct rtc *rtc, uint16_t port, uint8_t value, uint64_t now);

/* Guest TSC of the next interrupt, or NO_EVENT (none is enabled, or one is pending); and do what is
 * due. */
uint64_t rtc_next_event(const struct rtc *rtc);
void rtc_tick(struct rtc *rtc, uint64_t now);

#endif
