/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interval timer of a PC (Intel 8254, ports 0x40 to 0x43) and port 0x61, which gates counter 2.
 *
 * Counter 0 is IRQ 0: its wire rises when OUT does. In modes 2 and 3 it stays high until the next
 * rise instead of falling when OUT does, since nothing looks at the falling edge. Counter 1 has no
 * wire.
 * All six modes, binary and BCD. A new count of modes 2 and 3 without a new control word is loaded
 * at the end of the period, in mode 3, too (the data sheet: of the half-period).
 */
#ifndef HV_DEV_PIT_H
#define HV_DEV_PIT_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/dev/irq.h"

#define PIT_HZ       1193182u
#define PIT_COUNTERS 3u

struct pit_counter {
    uint8_t control; /* bits 5:0 of the control word */
    bool gate;
    bool loaded;      /* a whole count was written since the control word */
    bool triggered;   /* modes 1 and 5: the gate has risen since the control word */
    uint32_t count;   /* N of the running period: 1 to 65536 */
    uint32_t next;    /* the count that follows it; 0: the same */
    uint64_t start;   /* the clock's tick at which N was there */
    uint64_t elapsed; /* ticks of counting, while the gate stops it */
    bool write_high;  /* the next byte written is the high one of two */
    bool read_high;   /* as for reading */
    uint8_t low;      /* the low byte that was written */
    bool count_latched, status_latched;
    uint16_t count_latch;
    uint8_t status_latch;
};

struct pit {
    struct pit_counter counter[PIT_COUNTERS];
    struct irq_line irq;
    uint64_t tsc_hz;
    uint64_t seen;  /* tick up to which rises of counter 0 have been told */
    uint8_t port61; /* bits 3:0 as written */
};

/* As after power-on, where the chip's counters are undefined: none counts until software writes a
 * count. `tsc_hz`: of the `now` of the functions below. */
void pit_init(struct pit *pit, uint64_t tsc_hz, const struct irq_line *irq);
void pit_reset(struct pit *pit);

/* Ports 0x40 to 0x43 and 0x61 at guest TSC `now`. */
uint8_t pit_read(struct pit *pit, uint16_t port, uint64_t now);
void pit_write(struct pit *pit, uint16_t port, uint8_t value, uint64_t now);

/* Guest TSC of the next rise of IRQ 0, or NO_EVENT; and tell the rises until `now`: as one, however
 * many there were. */
uint64_t pit_next_event(const struct pit *pit);
void pit_tick(struct pit *pit, uint64_t now);

#endif
