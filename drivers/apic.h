/* SPDX-License-Identifier: BSD-2-Clause */
/* This processor's local APIC: xAPIC by memory or x2APIC by MSRs (SDM 3A chapter 11), and its
 * timer. */
#ifndef DRIVERS_APIC_H
#define DRIVERS_APIC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Mask the two 8259s and every local vector but the firmware's own SMIs, enable the local APIC, and
 * learn the timer's speed against the calibrated TSC. Uses x2APIC mode if it is there and
 * `want_x2apic`, or if the firmware left it on.
 */
void apic_init(bool want_x2apic);

uint32_t apic_id(void);

/* An interrupt every `ticks` of the TSC, about, until apic_timer_stop. */
void apic_timer_start(uint64_t ticks);
void apic_timer_stop(void);

/* An interrupt has arrived, by a VM exit or while the hypervisor ran: acknowledge it. */
void apic_interrupt_in_hypervisor(uint8_t vector);

#endif
