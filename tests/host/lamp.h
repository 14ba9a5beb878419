/* SPDX-License-Identifier: BSD-2-Clause */
/* A lamp on a device's wire: whether it is on, and how often it went on. */
#ifndef TESTS_HOST_LAMP_H
#define TESTS_HOST_LAMP_H

#include "hv/dev/irq.h"

struct lamp {
    bool on;
    unsigned rises;
};

static inline void lamp_set(void *context, unsigned gsi, bool level)
{
    struct lamp *lamp = context;

    (void)gsi;
    if (level && !lamp->on)
        lamp->rises++;
    lamp->on = level;
}

static inline struct irq_line lamp_line(struct lamp *lamp)
{
    return (struct irq_line){.set = lamp_set, .context = lamp};
}

#endif
