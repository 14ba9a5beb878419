/* SPDX-License-Identifier: BSD-2-Clause */
/* The hypervisor's panic() on the host: a test can expect one. */
#include "tests/host/panic.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "hv/arch.h"

jmp_buf *panic_expected;
char panic_text[256];

void panic(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(panic_text, sizeof(panic_text), format, args);
    va_end(args);
    if (panic_expected)
        longjmp(*panic_expected, 1);
    fprintf(stderr, "panic: %s\n", panic_text);
    abort();
}
