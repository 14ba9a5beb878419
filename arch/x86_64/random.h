/* SPDX-License-Identifier: BSD-2-Clause */
/* The processor's random numbers; arch_random() (hv/arch.h) is for everybody. */
#ifndef ARCH_RANDOM_H
#define ARCH_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* 64 bits of RDSEED, else of RDRAND (SDM 1 7.3.17). False where the processor has neither, or they
 * have run dry for long. Needs nothing of the hypervisor: it can be called first of all. */
bool random_of_processor(uint64_t *value);

#endif
