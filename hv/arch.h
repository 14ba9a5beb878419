/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor needs from the processor and the machine. arch/x86_64 and drivers provide it.
 */
#ifndef HV_ARCH_H
#define HV_ARCH_H

#include "hv/types.h"

/* Ends the hypervisor: message, registers, symbolised back trace, and the machine stays so (or, in a test,
 * ends with a failing status). For what only our own mistake, or a broken machine, can cause. */
__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *format, ...);

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #condition);                  \
    } while (0)

/* The direct map: every byte of RAM has a fixed virtual address in the hypervisor. */
void *host_ptr(hpa_t at);
hpa_t host_hpa(const void *in_direct_map);

/* Map a device's registers, uncached. `size` in bytes. Never fails short of a panic; never unmapped. */
void *host_map_device(hpa_t at, uint64_t size);

/* Map a framebuffer, write-combining where the processor can. */
void *host_map_framebuffer(hpa_t at, uint64_t size);

/* The time-stamp counter, and its ticks a second (calibrated at start). */
uint64_t time_now(void);
uint64_t time_hz(void);

#endif
