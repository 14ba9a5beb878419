/* SPDX-License-Identifier: BSD-2-Clause */
/* Expecting a panic: set panic_expected to a jmp_buf, and it comes back there with its text kept.
 */
#ifndef TESTS_HOST_PANIC_H
#define TESTS_HOST_PANIC_H

#include <setjmp.h>

extern jmp_buf *panic_expected;
extern char panic_text[256];

#endif
