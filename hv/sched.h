/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which virtual processor a host processor runs.
 *
 * Each virtual processor belongs to one host processor for all its life, so that nothing of it is
 * cached elsewhere. A host processor gives those that can run equal shares of its time: the one
 * that had least is next, for a slice. One that is alone is not disturbed; one that waits costs
 * nothing, and where all wait the processor sleeps.
 */
#ifndef HV_SCHED_H
#define HV_SCHED_H

#include "hv/types.h"

struct vcpu;

/* Put it into its processor's queue, and take it out again when it is VCPU_GONE. By the boot
 * processor. */
void sched_add(struct vcpu *vcpu);
void sched_remove(struct vcpu *vcpu);

/* Set bits of vcpu->attention, and see to it that they are looked at soon. By any processor, with
 * any lock. */
void sched_attention(struct vcpu *vcpu, uint32_t bits);

/* The same where the bits may stand already without having been looked at, as those of a VM that is
 * paused: its processor looks in any case. */
void sched_wake(struct vcpu *vcpu, uint32_t bits);

/* What the boot processor does beside running virtual processors. */
enum manage {
    MANAGE_OVER,
    MANAGE_IDLE,
    MANAGE_BUSY, /* it has more to do, and wants its turns */
};

/*
 * A processor's life: it runs its virtual processors until `manage` says that all is over. `manage`
 * is called between slices, when a virtual processor has gone, and every 10 ms if none runs; NULL
 * for processors that manage nothing, whose life this is for good.
 */
void sched_run(enum manage (*manage)(void));

/*
 * Whether `running`, whose processor this is, should give way to another virtual processor: one
 * that had less time, or any when its slice is over. Without others it is never asked to.
 */
bool sched_should_yield(struct vcpu *running);

/*
 * The TSC at which this processor must look again at the latest: in 10 ms, for time limits and
 * keys; on the boot processor sooner while the console has text to send, of which this call sends
 * some.
 */
uint64_t sched_looks_again(void);

#endif
