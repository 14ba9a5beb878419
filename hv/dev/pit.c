/* SPDX-License-Identifier: BSD-2-Clause */
/* See pit.h. Terms are the 8254 data sheet's. Nothing counts: values follow from the time. */
#include "hv/dev/pit.h"

#include "hv/dev/clock.h"

#define PORT_COUNTER 0x40u
#define PORT_CONTROL 0x43u
#define PORT_SYSTEM  0x61u

#define SPEAKER_COUNTER 2u /* the one whose gate software has */

/* Control word */
#define CONTROL_SELECT_SHIFT 6
#define CONTROL_READ_BACK    3u
#define CONTROL_KEPT         0x3fu
#define CONTROL_RW(c)        ((c) >> 4 & 3)
#define CONTROL_MODE(c)      ((c) >> 1 & 7)
#define CONTROL_BCD          0x01u
#define RW_LATCH             0u
#define RW_LOW               1u
#define RW_HIGH              2u

/* Read-back command: 0 latches, bit n + 1 is counter n */
#define READ_BACK_NO_COUNT   0x20u
#define READ_BACK_NO_STATUS  0x10u
#define READ_BACK_COUNTER(n) (2u << (n))
#define STATUS_OUT           0x80u
#define STATUS_NULL_COUNT    0x40u

#define BINARY_MODULUS 0x10000u
#define BCD_MODULUS    10000u

/* Port 0x61 */
#define SYSTEM_GATE    0x01u
#define SYSTEM_KEPT    0x0fu
#define SYSTEM_REFRESH 0x10u
#define SYSTEM_OUT     0x20u
#define REFRESH_CLOCKS 18u /* 15 microseconds: what firmware has counter 1 count */

enum pit_mode {
    TERMINAL_COUNT,
    ONE_SHOT,
    RATE_GENERATOR,
    SQUARE_WAVE,
    SOFTWARE_STROBE,
    HARDWARE_STROBE,
};

static enum pit_mode mode_of(const struct pit_counter *counter)
{
    unsigned mode = CONTROL_MODE(counter->control);

    return (enum pit_mode)(mode > HARDWARE_STROBE ? mode & 3 : mode); /* 6 is 2, 7 is 3 */
}

static bool is_periodic(const struct pit_counter *counter)
{
    return mode_of(counter) == RATE_GENERATOR || mode_of(counter) == SQUARE_WAVE;
}

static bool starts_by_gate(const struct pit_counter *counter)
{
    return mode_of(counter) == ONE_SHOT || mode_of(counter) == HARDWARE_STROBE;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static uint32_t modulus(const struct pit_counter *counter)
{
    return counter->control & CONTROL_BCD ? BCD_MODULUS : BINARY_MODULUS;
}

static uint32_t from_bcd(uint16_t value)
{
    return (value >> 12) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u +
           (value & 15);
}

static uint16_t to_bcd(uint32_t value)
{
    return (uint16_t)(value / 1000 % 10 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 |
                      value % 10);
}

/* The count that `written` means: 0 is the largest. */
static uint32_t count_from(const struct pit_counter *counter, uint16_t written)
{
    uint32_t count = counter->control & CONTROL_BCD ? from_bcd(written) : written;

    return count == 0 ? modulus(counter) : count;
}

/* --- a counter as time passes ----------------------------------------------------------------- */

/* In the other modes the gate is a trigger. */
static bool is_stopped_by_gate(const struct pit_counter *counter)
{
    return !counter->gate && !starts_by_gate(counter);
}

static bool is_counting(const struct pit_counter *counter)
{
    return counter->loaded && (counter->triggered || !starts_by_gate(counter));
}

/* Clock pulses since N was in the counter. */
static uint64_t elapsed(const struct pit_counter *counter, uint64_t tick)
{
    if (is_stopped_by_gate(counter))
        return counter->elapsed;
    return tick > counter->start ? tick - counter->start : 0;
}

/* A square wave counts by two, in each half from an even number: for an odd N the high half is one
 * pulse longer than the low one. */
static uint32_t square_wave_value(uint32_t count, uint32_t position)
{
    uint32_t high = (count + 1) / 2;
    uint32_t in_half = position < high ? position : position - high;

    return (count & ~1u) - 2 * in_half;
}

static uint32_t value_of(const struct pit_counter *counter, uint64_t tick)
{
    uint32_t count = counter->count, m = modulus(counter);
    uint64_t passed = elapsed(counter, tick);

    if (!is_counting(counter))
        return count % m;
    switch (mode_of(counter)) {
    case RATE_GENERATOR:
        return (count - (uint32_t)(passed % count)) % m;
    case SQUARE_WAVE:
        return square_wave_value(count, (uint32_t)(passed % count)) % m;
    default: /* goes on after 0 */
        return (count % m + m - (uint32_t)(passed % m)) % m;
    }
}

static bool out_of(const struct pit_counter *counter, uint64_t tick)
{
    uint64_t passed = elapsed(counter, tick);
    uint32_t count = counter->count;

    if (!is_counting(counter))
        return mode_of(counter) != TERMINAL_COUNT;
    switch (mode_of(counter)) {
    case TERMINAL_COUNT:
    case ONE_SHOT:
        return passed >= count;
    case RATE_GENERATOR:
        return !counter->gate || passed % count != count - 1;
    case SQUARE_WAVE:
        return !counter->gate || passed % count < (count + 1) / 2;
    default:
        return passed != count;
    }
}

/* The tick after `seen` at which OUT rises, with the gate open; NO_EVENT. A period of 1 is illegal
 * in the periodic modes: OUT then does not change. */
static uint64_t next_rise(const struct pit_counter *counter, uint64_t seen)
{
    uint64_t end = counter->start + counter->count;

    if (!is_counting(counter))
        return NO_EVENT;
    switch (mode_of(counter)) {
    case TERMINAL_COUNT:
    case ONE_SHOT:
        return end > seen ? end : NO_EVENT;
    case RATE_GENERATOR:
    case SQUARE_WAVE:
        if (counter->count == 1)
            return NO_EVENT;
        return end > seen ? end : end + ((seen - end) / counter->count + 1) * counter->count;
    default: /* the strobe is low for one pulse */
        return end + 1 > seen ? end + 1 : NO_EVENT;
    }
}

/* A periodic counter whose period has ended takes the new count. */
static void catch_up(struct pit_counter *counter, uint64_t tick)
{
    if (!counter->next || !is_periodic(counter) || elapsed(counter, tick) < counter->count)
        return;
    counter->start += counter->count;
    counter->count = counter->next;
    counter->next = 0;
}

/* --- what software does to a counter ---------------------------------------------------------- */

/* N is in the counter after the next clock pulse. */
static void load(struct pit_counter *counter, uint64_t tick)
{
    if (counter->next)
        counter->count = counter->next;
    counter->next = 0;
    counter->start = tick + 1;
    counter->elapsed = 0;
}

static void write_count(struct pit_counter *counter, uint16_t written, uint64_t tick)
{
    bool first = !counter->loaded;

    counter->next = count_from(counter, written);
    counter->loaded = true;
    if (is_periodic(counter) && !first) { /* at the end of the period that runs now */
        uint64_t passed = elapsed(counter, tick);
        counter->start += passed / counter->count * counter->count;
        counter->elapsed = passed % counter->count;
    } else if (first || !starts_by_gate(counter)) {
        load(counter, tick);
    }
}

static void write_counter(struct pit_counter *counter, uint8_t value, uint64_t tick)
{
    unsigned rw = CONTROL_RW(counter->control);

    if (rw == RW_LOW) {
        write_count(counter, value, tick);
    } else if (rw == RW_HIGH) {
        write_count(counter, (uint16_t)(value << 8), tick);
    } else if (counter->write_high) {
        counter->write_high = false;
        write_count(counter, (uint16_t)(value << 8 | counter->low), tick);
    } else {
        counter->low = value;
        counter->write_high = true;
        if (mode_of(counter) == TERMINAL_COUNT)
            counter->loaded = false; /* the first byte stops it, and OUT is low */
    }
}

static void set_gate(struct pit_counter *counter, bool gate, uint64_t tick)
{
    bool rises = gate && !counter->gate;

    if (gate == counter->gate)
        return;
    if (!rises) {
        counter->elapsed = elapsed(counter, tick);
        counter->gate = false;
        return;
    }
    counter->gate = true;
    if (starts_by_gate(counter)) {
        counter->triggered = true;
        load(counter, tick);
    } else if (is_periodic(counter)) {
        load(counter, tick);
    } else {
        counter->start = tick - counter->elapsed;
    }
}

static void latch_count(struct pit_counter *counter, uint64_t tick)
{
    if (counter->count_latched)
        return;
    uint32_t value = value_of(counter, tick);
    counter->count_latch = counter->control & CONTROL_BCD ? to_bcd(value) : (uint16_t)value;
    counter->count_latched = true;
}

static void latch_status(struct pit_counter *counter, uint64_t tick)
{
    bool is_null = !counter->loaded || counter->next || tick < counter->start;

    if (counter->status_latched)
        return;
    counter->status_latch = (uint8_t)((out_of(counter, tick) ? STATUS_OUT : 0) |
                                      (is_null ? STATUS_NULL_COUNT : 0) | counter->control);
    counter->status_latched = true;
}

/* Latched or not, a count is read in the bytes that the control word says. */
static uint8_t read_counter(struct pit_counter *counter, uint64_t tick)
{
    unsigned rw = CONTROL_RW(counter->control);
    bool was_latched = counter->count_latched;

    if (counter->status_latched) {
        counter->status_latched = false;
        return counter->status_latch;
    }
    latch_count(counter, tick);
    bool high = rw == RW_HIGH || (rw != RW_LOW && counter->read_high);
    bool more = rw != RW_LOW && rw != RW_HIGH && !high;
    counter->read_high = more;
    counter->count_latched = was_latched && more;
    return (uint8_t)(high ? counter->count_latch >> 8 : counter->count_latch);
}

static void write_control(struct pit_counter *counter, uint8_t value)
{
    *counter = (struct pit_counter){
        .control = value & CONTROL_KEPT,
        .gate = counter->gate,
        .count = counter->count,
    };
}

/* --- the chip --------------------------------------------------------------------------------- */

static uint64_t tick_at(const struct pit *pit, uint64_t now)
{
    return clock_ticks(now, PIT_HZ, pit->tsc_hz);
}

/* In mode 0 OUT stays low until it rises; in the others it is taken for high but for a moment
 * before it rises. */
static void rest(struct pit *pit, uint64_t tick)
{
    const struct pit_counter *counter = &pit->counter[0];

    irq_set(&pit->irq, mode_of(counter) != TERMINAL_COUNT || out_of(counter, tick));
}

static void advance(struct pit *pit, uint64_t tick)
{
    if (next_rise(&pit->counter[0], pit->seen) <= tick) {
        irq_set(&pit->irq, false);
        irq_set(&pit->irq, true);
    }
    pit->seen = tick;
    for (unsigned i = 0; i < PIT_COUNTERS; i++)
        catch_up(&pit->counter[i], tick);
}

void pit_tick(struct pit *pit, uint64_t now)
{
    advance(pit, tick_at(pit, now));
}

uint64_t pit_next_event(const struct pit *pit)
{
    uint64_t rise = next_rise(&pit->counter[0], pit->seen);

    return rise == NO_EVENT ? NO_EVENT : clock_time(rise, PIT_HZ, pit->tsc_hz);
}

static void read_back(struct pit *pit, uint8_t value, uint64_t tick)
{
    for (unsigned i = 0; i < PIT_COUNTERS; i++) {
        if (!(value & READ_BACK_COUNTER(i)))
            continue;
        if (!(value & READ_BACK_NO_COUNT))
            latch_count(&pit->counter[i], tick);
        if (!(value & READ_BACK_NO_STATUS))
            latch_status(&pit->counter[i], tick);
    }
}

static void write_command(struct pit *pit, uint8_t value, uint64_t tick)
{
    unsigned select = value >> CONTROL_SELECT_SHIFT;

    if (select == CONTROL_READ_BACK)
        read_back(pit, value, tick);
    else if (CONTROL_RW(value) == RW_LATCH)
        latch_count(&pit->counter[select], tick);
    else
        write_control(&pit->counter[select], value);
}

static uint8_t read_system(const struct pit *pit, uint64_t tick)
{
    return (uint8_t)(pit->port61 | (tick / REFRESH_CLOCKS % 2 ? SYSTEM_REFRESH : 0) |
                     (out_of(&pit->counter[SPEAKER_COUNTER], tick) ? SYSTEM_OUT : 0));
}

uint8_t pit_read(struct pit *pit, uint16_t port, uint64_t now)
{
    uint64_t tick = tick_at(pit, now);

    advance(pit, tick);
    if (port == PORT_SYSTEM)
        return read_system(pit, tick);
    if (port == PORT_CONTROL)
        return 0xff; /* write only */
    return read_counter(&pit->counter[port - PORT_COUNTER], tick);
}

void pit_write(struct pit *pit, uint16_t port, uint8_t value, uint64_t now)
{
    uint64_t tick = tick_at(pit, now);

    advance(pit, tick);
    if (port == PORT_SYSTEM) {
        pit->port61 = value & SYSTEM_KEPT;
        set_gate(&pit->counter[SPEAKER_COUNTER], (value & SYSTEM_GATE) != 0, tick);
    } else if (port == PORT_CONTROL) {
        write_command(pit, value, tick);
    } else {
        write_counter(&pit->counter[port - PORT_COUNTER], value, tick);
    }
    rest(pit, tick);
}

void pit_reset(struct pit *pit)
{
    for (unsigned i = 0; i < PIT_COUNTERS; i++)
        pit->counter[i] = (struct pit_counter){.gate = i != SPEAKER_COUNTER, .count = 1};
    pit->seen = 0;
    pit->port61 = 0;
    irq_set(&pit->irq, false);
}

void pit_init(struct pit *pit, uint64_t tsc_hz, const struct irq_line *irq)
{
    *pit = (struct pit){.tsc_hz = tsc_hz, .irq = *irq};
    pit_reset(pit);
}
