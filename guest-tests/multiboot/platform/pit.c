/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of the i8254 (data sheet) and of port 0x61. */
#include "guest-tests/multiboot/platform/platform.h"

#define PIT_DATA(channel)  ((uint16_t)(0x40 + (channel)))
#define PIT_CONTROL        0x43u
#define READ_BACK          0xc0u
#define READ_BACK_NO_COUNT 0x20u
#define COUNTER(channel)   (2u << (channel))
#define STATUS_OUT         0x80u
#define STATUS_NULL        0x40u

#define PORT_SYSTEM 0x61u

static uint8_t status(unsigned channel)
{
    outb(PIT_CONTROL, (uint8_t)(READ_BACK | READ_BACK_NO_COUNT | COUNTER(channel)));
    return inb(PIT_DATA(channel));
}

/* Mode 2, "rate generator": counts from N down to 1, by one, again and again. */
static const char *mode_2(void)
{
    const uint16_t count = 1000;
    uint16_t last = 0, highest = 0, lowest = 0xffff;
    bool wrapped = false;

    pit_set(0, 2, count);
    struct deadline d = deadline_in(20000);
    while (!is_over(&d)) {
        uint16_t now = pit_read(0);
        EXPECT(now >= 1 && now <= count, "the count is not within 1 to N");
        wrapped |= now > last && last != 0;
        highest = now > highest ? now : highest;
        lowest = now < lowest ? now : lowest;
        last = now;
    }
    EXPECT(wrapped, "the count does not start again");
    EXPECT(highest > count / 2 && lowest < count / 2, "the count does not go through its range");
    return NULL;
}

/* Mode 3, "square wave": counts by two, the output is high for one half of the period. */
static const char *mode_3(void)
{
    bool high = false, low = false;

    pit_set(0, 3, 2000);
    struct deadline d = deadline_in(20000);
    while (!is_over(&d)) {
        EXPECT(!(pit_read(0) & 1), "an odd count");
        high |= (status(0) & STATUS_OUT) != 0;
        low |= !(status(0) & STATUS_OUT);
    }
    EXPECT(high && low, "the output does not change");
    return NULL;
}

/* Mode 0, "interrupt on terminal count", on counter 2, whose output port 0x61 has: low until the
 * end, then high until a new count. */
static const char *mode_0(void)
{
    const uint16_t count = 3000;

    pit_gate(true);
    EXPECT(inb(PORT_SYSTEM) & 1, "port 0x61: the gate does not read back");
    pit_set(2, 0, count);
    uint64_t start = rdtsc();
    EXPECT(WAIT_UNTIL(pit_out(), BOUND_US), "the output does not go high at the end");
    EXPECT((uint32_t)(rdtsc() - start) >= (uint32_t)ticks_of_us(2000),
           "the output is high before the end");
    spin_us(100);
    EXPECT(pit_out(), "the output does not stay high");
    pit_set(2, 0, 0xffff);
    EXPECT(!pit_out(), "a new count does not make the output low");
    return NULL;
}

/* The gate of counter 2, which port 0x61 has: in mode 0 it only holds the count. */
static const char *gate(void)
{
    pit_gate(false);
    EXPECT(!(inb(PORT_SYSTEM) & 1), "port 0x61: the gate does not read back");
    if (on_qemu_tcg())
        return skip("QEMU's i8254 has no gate in mode 0");
    pit_set(2, 0, 6000);
    spin_us(1000);
    uint16_t held = pit_read(2);
    spin_us(1000);
    EXPECT_EQ(pit_read(2), held, "it counts without its gate");
    pit_gate(true);
    spin_us(1000);
    pit_gate(false);
    uint16_t paused = pit_read(2);
    EXPECT(paused < held, "it does not count with its gate");
    spin_us(1000);
    EXPECT_EQ(pit_read(2), paused, "taking the gate away does not hold the count");
    return NULL;
}

/* The counter latch: holds the count until it is read, and a second latch before that is ignored.
 */
static const char *latch(void)
{
    pit_set(0, 2, 0);
    outb(PIT_CONTROL, 0);
    spin_us(500);
    outb(PIT_CONTROL, 0);
    uint8_t low = inb(PIT_DATA(0));
    uint16_t latched = (uint16_t)(low | inb(PIT_DATA(0)) << 8);
    uint16_t after = pit_read(0);
    /* 500 us are 596 counts. */
    EXPECT((uint16_t)(latched - after) >= 500, "the second latch replaced the first");
    return NULL;
}

/* Read-back: status has the access mode, the counting mode, the output; with a count it comes
 * first. */
static const char *read_back(void)
{
    pit_set(0, 2, 50000);
    spin_us(50);
    EXPECT_EQ(status(0) & 0x3fu, 3u << 4 | 2u << 1,
              "status of counter 0: low and high byte, mode 2");
    if (!on_qemu_tcg()) /* which has the output upside down */
        EXPECT_EQ(status(0) & STATUS_OUT, STATUS_OUT, "status: the output of mode 2 is high");
    EXPECT_EQ(status(0) & STATUS_NULL, 0, "status: the count is not loaded");
    outb(PIT_CONTROL, 1u << 4 | 2u << 1); /* counter 0, low byte alone, mode 2 */
    EXPECT_EQ(status(0) & 0x3fu, 1u << 4 | 2u << 1,
              "status after a control word for the low byte alone");
    pit_set(2, 0, 50000);
    outb(PIT_CONTROL, READ_BACK | COUNTER(2));
    EXPECT_EQ(inb(PIT_DATA(2)) & 0x3fu, 3u << 4, "status of counter 2");
    uint8_t low = inb(PIT_DATA(2));
    uint16_t count = (uint16_t)(low | inb(PIT_DATA(2)) << 8);
    EXPECT(count == 50000 || (on_qemu_tcg() && count < 50000), /* see gate() */
           "the count of counter 2, that was latched with the status");
    return NULL;
}

/* Counter 0 runs at 1.193182 MHz by the TSC, whose rate the start measured: they go on together. Up
 * to 5 attempts, as an emulator may be held up for longer than the 55 ms of 16 bits. */
static const char *frequency(void)
{
    uint32_t khz = 0;

    pit_set(0, 2, 0);
    for (unsigned attempt = 0; attempt < 5; attempt++) {
        khz = counter_khz(pit_elapsed, PIT_MASK, 20000);
        if (is_about(khz, PIT_HZ / 1000, 2))
            return NULL;
    }
    EXPECT_EQ(khz, PIT_HZ / 1000, "counts in a millisecond of the TSC");
    return NULL;
}

const struct check pit_checks[] = {
    {"pit-mode-2", mode_2, false},       {"pit-mode-3", mode_3, false},
    {"pit-mode-0", mode_0, false},       {"pit-gate", gate, false},
    {"pit-latch", latch, false},         {"pit-read-back", read_back, false},
    {"pit-frequency", frequency, false}, {0},
};
