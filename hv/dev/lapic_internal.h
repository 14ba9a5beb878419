/* SPDX-License-Identifier: BSD-2-Clause */
/* What the local APIC's files need of each other: registers (lapic.c), delivery
 * (lapic_delivery.c), timer (lapic_timer.c). */
#ifndef HV_DEV_LAPIC_INTERNAL_H
#define HV_DEV_LAPIC_INTERNAL_H

#include "hv/dev/clock.h"
#include "hv/dev/lapic.h"

#define BIT32(n) (1u << (n))

/* The model's own bits, beside those of hv/apic_registers.h. */
#define LAPIC_SVR_SUPPRESS   BIT32(12) /* of EOI broadcasts */
#define LAPIC_DFR_MODEL      0xf0000000u
#define LAPIC_DFR_FLAT       0xf0000000u
#define LAPIC_LVT_VECTOR     0xffu
#define LAPIC_LVT_REMOTE_IRR BIT32(14) /* read only */
#define LAPIC_LVT_LEVEL      BIT32(15)
#define LAPIC_DIVIDE_BITS    0x0bu

/* Error status register, SDM 3A 11.5.3 */
#define LAPIC_ESR_SEND_ILLEGAL     BIT32(5)
#define LAPIC_ESR_RECEIVE_ILLEGAL  BIT32(6)
#define LAPIC_ESR_ILLEGAL_REGISTER BIT32(7)

static inline void lapic_notify(struct lapic *lapic)
{
    lapic->changed = true;
    lapic->bus->notify(lapic->bus->context, lapic->id);
}

static inline uint64_t lapic_now(const struct lapic *lapic)
{
    return lapic->bus->now(lapic->bus->context);
}

/* A register in the page. The processor may change it meanwhile, as a whole. */
static inline uint32_t lapic_get(const struct lapic *lapic, unsigned number)
{
    return __atomic_load_n(&lapic->page->reg[number].value, __ATOMIC_RELAXED);
}

static inline void lapic_set(struct lapic *lapic, unsigned number, uint32_t value)
{
    __atomic_store_n(&lapic->page->reg[number].value, value, __ATOMIC_RELAXED);
}

/* --- delivery --------------------------------------------------------------------------------- */

/* A bit of ESR: noted, and told by the LVT's error entry. */
void lapic_error(struct lapic *lapic, uint32_t bit);

/* One of the local sources interrupts, as its LVT entry has it. */
void lapic_local_interrupt(struct lapic *lapic, enum lapic_lvt which);

/* Send LINT0's level-triggered interrupt if it is asserted and the one before has had its EOI. */
void lapic_look_at_level(struct lapic *lapic);

/* No interrupt is requested or in service any more. */
void lapic_forget_interrupts(struct lapic *lapic);

/* Put the requests that came while the page was in use into it. */
void lapic_merge_requests(struct lapic *lapic);

/* EOI is written. */
void lapic_end_of_interrupt(struct lapic *lapic);

/* ICR is written: send what it says. SELF IPI is written. */
void lapic_send(struct lapic *lapic);
void lapic_send_to_self(struct lapic *lapic, uint8_t vector);

/* Logical x2APIC ID: the cluster of 16, and a bit in it (SDM 3A 11.12.10.2). */
uint32_t lapic_x2apic_ldr(const struct lapic *lapic);

/* --- timer ------------------------------------------------------------------------------------ */

/* The current-count register at guest TSC `time`: that of a counter that shows N for the first of
 * its N counts' lengths. */
uint32_t lapic_timer_count(const struct lapic *lapic, uint64_t time);

void lapic_timer_stop(struct lapic_timer *timer);

/* The timer's registers are written. The initial count starts it, 0 stops it; in the deadline mode
 * there are no counts, and in the others no deadline. */
void lapic_timer_write_initial(struct lapic *lapic, uint32_t value);
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value);
void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value);
void lapic_timer_write_deadline(struct lapic *lapic, uint64_t value);

#endif
