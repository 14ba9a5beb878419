/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What local APICs and the I/O APIC say to each other: messages on the system bus (SDM 3A 11.1,
 * 11.11), and the bus as one APIC sees it.
 */
#ifndef HV_DEV_APIC_H
#define HV_DEV_APIC_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/apic_registers.h"

#define APIC_BROADCAST 0xffffffffu

/* Vectors below are the processor's own: an APIC takes them as errors (SDM 3A 11.5.2). */
#define APIC_VECTOR_MIN 16u

struct apic_message {
    /* An APIC ID, or a logical destination; APIC_BROADCAST: all. */
    uint32_t destination;
    bool logical;
    bool level; /* level-triggered: its EOI is told to the I/O APIC */
    enum apic_delivery delivery;
    uint8_t vector; /* APIC_SIPI: the page where the processor starts */
};

/* Who gets an interprocessor interrupt: the ICR's destination shorthand (SDM 3A 11.6.1). */
enum apic_shorthand { APIC_NO_SHORTHAND, APIC_SELF, APIC_ALL, APIC_OTHERS };

struct apic_bus {
    void *context;
    uint64_t (*now)(void *context); /* the guest's TSC */
    /* Local APIC `from` sends; `shorthand` stands for the message's destination. */
    void (*send)(void *context, unsigned from, enum apic_shorthand shorthand,
                 const struct apic_message *message);
    /* A local APIC's EOI of a level-triggered interrupt. */
    void (*eoi)(void *context, uint8_t vector);
    /* What processor `cpu` would find has changed: an interrupt, NMI, INIT, SIPI, its timer. */
    void (*notify)(void *context, unsigned cpu);
};

#endif
