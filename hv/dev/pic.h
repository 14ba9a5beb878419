/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two interrupt controllers of a PC (Intel 8259A, the second one behind the first one's IRQ 2)
 * and the edge/level registers of EISA and later chip sets (ports 0x4d0, 0x4d1), which take the
 * place of ICW1's LTIM bit.
 */
#ifndef HV_DEV_PIC_H
#define HV_DEV_PIC_H

#include <stdbool.h>
#include <stdint.h>

#define PIC_LINES 16u /* of both */

struct pic {
    uint8_t irr, isr, imr;
    uint8_t lines;    /* levels of the inputs */
    uint8_t elcr;     /* bit n: input n is level-triggered */
    uint8_t vectors;  /* ICW2: the vector of input 0 */
    uint8_t lowest;   /* the input of lowest priority; the one after it has the highest */
    uint8_t next_icw; /* 2, 3 or 4 while it is being initialised; else 0 */
    bool single, needs_icw4;
    bool auto_eoi, rotate_in_auto_eoi, fully_nested;
    bool special_mask, poll, read_isr;
};

struct pics {
    struct pic chip[2]; /* master, slave */
    bool intr;          /* the master's output, to the processor */
};

/* As after power-on and firmware: vectors 0x08 for IRQ 0 and 0x70 for IRQ 8, all masked but the
 * cascade. The inputs keep their levels, which are low in a struct that is all zero. */
void pics_reset(struct pics *pics);

/* Input `irq` (below PIC_LINES, not 2) has a level. */
void pics_set_line(struct pics *pics, unsigned irq, bool level);

/*
 * The vector that an INTA cycle would give now, and that cycle. Without a request it is the
 * spurious one of input 7, which is not in service. So are interrupts that go between INT and INTA;
 * that cannot happen while the caller looks at `intr` under the same lock.
 */
uint8_t pics_vector(const struct pics *pics);
uint8_t pics_acknowledge(struct pics *pics);

/* Ports 0x20, 0x21, 0xa0, 0xa1 and 0x4d0, 0x4d1. */
uint8_t pics_read(struct pics *pics, uint16_t port);
void pics_write(struct pics *pics, uint16_t port, uint8_t value);

#endif
