/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_HOST_CLOCK_H
#define TESTS_HOST_CLOCK_H

#include <stdint.h>

/* Ticks, of 1 ms, by which each look at the clock moves it on. 0 at the start: time stands still.
 */
extern uint64_t clock_step;

#endif
