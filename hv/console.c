/* SPDX-License-Identifier: BSD-2-Clause */
/* See console.h. */
#include "hv/console.h"

#include <stdarg.h>
#include <stdio.h>

#include "hv/arch.h"

#define LINE_MAX 512

static console_sink *sinks[CONSOLE_SINKS_MAX];
static unsigned sink_count;

void console_add_sink(console_sink *sink)
{
    if (sink_count == CONSOLE_SINKS_MAX)
        panic("console: more than %d sinks", CONSOLE_SINKS_MAX);
    sinks[sink_count++] = sink;
}

static console_source *key_source;

void console_set_source(console_source *source)
{
    key_source = source;
}

int console_read(void)
{
    return key_source ? key_source() : -1;
}

void console_write(const char *text, size_t len)
{
    for (unsigned i = 0; i < sink_count; i++)
        sinks[i](text, len);
}

/* The length that vsnprintf really stored, given what it returned. */
static size_t stored_length(int wanted, size_t room)
{
    if (wanted < 0)
        return 0;
    return (size_t)wanted < room ? (size_t)wanted : room - 1;
}

void console_printf(const char *format, ...)
{
    char line[LINE_MAX];
    va_list args;

    va_start(args, format);
    int wanted = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    console_write(line, stored_length(wanted, sizeof(line)));
}

void log_line(const char *format, ...)
{
    char line[LINE_MAX];
    va_list args;

    va_start(args, format);
    int wanted = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    console_write("twofold: ", 9);
    console_write(line, stored_length(wanted, sizeof(line)));
    console_write("\n", 1);
}
