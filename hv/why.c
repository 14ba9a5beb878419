/* SPDX-License-Identifier: BSD-2-Clause */
/* See why.h. */
#include "hv/why.h"

#include <stdarg.h>
#include <stdio.h>

bool why_set(struct why *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return false;
}
