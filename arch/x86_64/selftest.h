/* SPDX-License-Identifier: BSD-2-Clause */
/* Deliberate faults of the hypervisor's own, to see that its protections hold and that a panic
 * tells its story. */
#ifndef ARCH_SELFTEST_H
#define ARCH_SELFTEST_H

#include "hv/settings.h"

/* Commit the fault; returns for SELF_TEST_NONE only, or if the machine let it pass (then the test
 * has failed). */
void selftest_run(enum self_test test);

/* selftest_processors.c: the tests that need no VT-x (hv/settings.h). The boot processor runs one
 * and says whether all was well; the others are started with what they do meanwhile. */
bool selftest_processors(enum self_test test);
void selftest_of_others(void);

#endif
