/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a VM's devices ask of the VM around them. All devices of a VM run under the VM's lock, and
 * so do these functions.
 */
#ifndef HV_DEV_HOST_H
#define HV_DEV_HOST_H

#include "hv/types.h"

struct devices_host {
    void *context;
    /* The guest's time: TSC ticks since the VM began, or any other start. It never goes back; what
     * a guest writes to IA32_TIME_STAMP_COUNTER must not be in it. */
    uint64_t (*now)(void *context);
    /* Virtual processor `cpu` has something to look at: an interrupt, NMI, INIT or SIPI, or its
     * next event has changed. May come for the processor whose access is being served. */
    void (*notify)(void *context, unsigned cpu);
    /* A device has written `len` bytes at guest-physical `at`. */
    void (*written)(void *context, gpa_t at, uint64_t len);
    /* 64 random bits that nobody can guess. */
    uint64_t (*random)(void *context);
};

#endif
