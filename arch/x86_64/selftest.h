/* SPDX-License-Identifier: BSD-2-Clause */
/* Deliberate faults of the hypervisor's own, to see that its protections hold and that a panic
 * tells its story. */
#ifndef ARCH_SELFTEST_H
#define ARCH_SELFTEST_H

#include "hv/settings.h"

/* Commit the fault; returns for SELF_TEST_NONE only, or if the machine let it pass (then the test
 * has failed). */
void selftest_run(enum self_test test);

#endif
