/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The watchdog: a processor that is stuck in the hypervisor is noticed by another one.
 *
 * Each processor beats when it has got somewhere: whenever it looks around between two runs of a
 * guest, which a timer sees to every 10 ms, whenever it goes to sleep or wakes, and with each piece
 * of text that it writes. Exits themselves are not touched: one that ends comes to a beat soon. On
 * these occasions each also looks at the next one in a ring, so that of any stuck processors, if
 * not all are, one is seen by one that is not. Who has not beaten for as long as the settings say
 * (watchdog =) is stuck: the one that sees it panics, which stops all by NMIs, interrupts on or
 * off, and tells where each of them was.
 *
 * A processor that looks around for ever beats, and its guest never runs: that is the virtual
 * processor's to notice (vcpu.c), and stops its VM alone.
 *
 * On a machine with one processor nobody can look: interrupts are off in the hypervisor.
 */
#ifndef HV_WATCHDOG_H
#define HV_WATCHDOG_H

#include "hv/types.h"

#define WATCHDOG_LOOKS 4u /* in vain, one after the other, are as long as the limit */

/* Before the other processors start: look for those that have been stuck for `seconds`. At any
 * time, with 0: do not look any more. */
void watchdog_init(unsigned seconds);

/* This processor has got somewhere. */
void watchdog_beat(void);

/* Until its next beat nobody expects one of this processor: it is not ours. */
void watchdog_rest(void);

/* Look at the next processor, if it is time to; panics if that one is stuck. */
void watchdog_look(void);

/* The TSC ticks between two looks, after which a processor that sleeps is to beat and look; ~0: it
 * need not. */
uint64_t watchdog_period(void);

#endif
