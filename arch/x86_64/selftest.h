/* SPDX-License-Identifier: BSD-2-Clause */
/* Deliberate faults of the hypervisor's own, to see that its protections hold and that a panic
 * tells its story. */
#ifndef ARCH_SELFTEST_H
#define ARCH_SELFTEST_H

#include "hv/settings.h"

/* Commit the fault; returns if the machine let it pass (then the test has failed). */
void selftest_commit(enum self_test test);

/* selftest_processors.c: the boot processor runs one and says whether all was well; the others are
 * started with what they do meanwhile. */
bool selftest_processors(enum self_test test);
void selftest_of_others(void);

/* selftest_dma.c: whether a device that can be told to, QEMU's "edu", writes to memory. */
bool selftest_dma(void);

/* selftest_protections.c: whether each access that the hypervisor's tables forbid faults on this
 * processor, where it must and as it must. Says how many, or which does not. */
bool selftest_protections(void);

#endif
