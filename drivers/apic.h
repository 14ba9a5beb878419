/* SPDX-License-Identifier: BSD-2-Clause */
/* The processors' local APICs: xAPIC by memory or x2APIC by MSRs (SDM 3A chapter 11), and their
 * timers. Each function is about the APIC of the processor that calls it. */
#ifndef DRIVERS_APIC_H
#define DRIVERS_APIC_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/why.h"

/*
 * Mask the two 8259s and every local vector but the firmware's own SMIs, enable the local APIC, and
 * learn the timer's speed against the calibrated TSC. Uses x2APIC mode if it is there and
 * `want_x2apic`, or if the firmware left it on.
 */
void apic_init(bool want_x2apic);

/* On another processor: the same, in the boot processor's mode. False if it cannot be had. */
bool apic_enter(struct why *why);

uint32_t apic_id(void);

/* Interrupts to the processor whose APIC has that id. Stores before are visible to it when it
 * comes. */
bool apic_can_reach(uint32_t id); /* xAPIC has 8 bits for it */
void apic_send_init(uint32_t id);
void apic_send_startup(uint32_t id, uint8_t page); /* it starts at page * 4 KiB, in real mode */
void apic_send_kick(uint32_t id);                  /* a fixed interrupt that says nothing */
void apic_send_nmi(uint32_t id);

/* One interrupt when the TSC reaches `until`, or some time before it where the timer counts no
 * further; at once if it has. APIC_TIMER_NEVER: none. */
#define APIC_TIMER_NEVER (~0ull)
void apic_timer_once(uint64_t until);

/* An interrupt has arrived, by a VM exit or while the hypervisor ran: acknowledge it. */
void apic_interrupt_in_hypervisor(uint8_t vector);

#endif
