/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A wire from a device to the interrupt controllers. A device knows nothing else of them, so that a
 * test can hang a lamp on it.
 */
#ifndef HV_DEV_IRQ_H
#define HV_DEV_IRQ_H

#include <stdbool.h>

struct irq_line {
    /* Set the level of interrupt input `gsi`; true: asserted. NULL: the wire leads nowhere. */
    void (*set)(void *context, unsigned gsi, bool level);
    void *context;
    unsigned gsi; /* global system interrupt; below 16 the ISA bus' IRQ */
};

static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->context, line->gsi, level);
}

#endif
