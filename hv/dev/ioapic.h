/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An I/O APIC of 24 pins: Intel's 82093AA with the EOI register of version 0x20.
 *
 * Devices' wires say whether they are asserted; the polarity bit of a redirection entry is kept and
 * means nothing. What an entry of ExtINT leads to is the business of ioapic_extint(): the i8259s
 * give the vector, not this chip.
 */
#ifndef HV_DEV_IOAPIC_H
#define HV_DEV_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/dev/apic.h"

#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_SIZE 0x1000u
#define IOAPIC_PINS 24u

struct ioapic {
    /* Send to the local APICs; false: none accepted. */
    bool (*send)(void *context, const struct apic_message *message);
    void *context;
    uint8_t id, index;
    uint32_t level;   /* bit n: pin n is asserted */
    uint32_t waiting; /* bit n: a level-triggered interrupt that no local APIC accepted */
    uint64_t entry[IOAPIC_PINS];
};

void ioapic_init(struct ioapic *ioapic, bool (*send)(void *, const struct apic_message *),
                 void *context);

/* As after power-on: all entries are masked. The pins keep their levels. */
void ioapic_reset(struct ioapic *ioapic);

/* Pin `pin` (below IOAPIC_PINS) has a level. */
void ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level);

/* A local APIC's EOI: level-triggered entries of this vector send again if asserted. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

/* Local APICs have changed: try again what none of them accepted. */
void ioapic_retry(struct ioapic *ioapic);

/* Where `pin` sends ExtINT to; false if it is masked or of another delivery mode. */
bool ioapic_extint(const struct ioapic *ioapic, unsigned pin, struct apic_message *message);

/* Accesses at `offset` from IOAPIC_BASE of `bytes`. The registers are 32 bits wide: smaller writes
 * are ignored but for the index, smaller reads give the low bytes. */
uint64_t ioapic_read(const struct ioapic *ioapic, unsigned offset, unsigned bytes);
void ioapic_write(struct ioapic *ioapic, unsigned offset, unsigned bytes, uint64_t value);

#endif
