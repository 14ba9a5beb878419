/* SPDX-License-Identifier: BSD-2-Clause */
/* See lines.h. */
#include "hv/dev/lines.h"

#include <string.h>

#define NAME_MAX_BYTES 60u

#define MARK_WHOLE '|'
#define MARK_PIECE '+'

void lines_init(struct lines *lines, const char *name, line_output *output)
{
    *lines = (struct lines){.name = name, .output = output};
}

static void send_line(struct lines *lines, char mark)
{
    char text[NAME_MAX_BYTES + sizeof("| \n") + LINE_MAX_BYTES];
    size_t length = strnlen(lines->name, NAME_MAX_BYTES);

    memcpy(text, lines->name, length);
    text[length++] = mark;
    text[length++] = ' ';
    memcpy(text + length, lines->text, lines->length);
    length += lines->length;
    text[length++] = '\n';
    lines->output(text, length);
    lines->length = 0;
}

void lines_add(struct lines *lines, uint8_t byte)
{
    if (byte == '\n') {
        send_line(lines, MARK_WHOLE);
        return;
    }
    lines->text[lines->length++] = (char)byte;
    if (lines->length == LINE_MAX_BYTES)
        send_line(lines, MARK_PIECE);
}

void lines_flush(struct lines *lines)
{
    if (lines->length > 0)
        send_line(lines, MARK_PIECE);
}
