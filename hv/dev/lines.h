/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest sends, byte by byte, gathered into lines for the console (hv/console.h has their
 * form): each goes out with the guest's name before it, and whole, so that nothing comes between.
 */
#ifndef HV_DEV_LINES_H
#define HV_DEV_LINES_H

#include <stddef.h>
#include <stdint.h>

#define LINE_MAX_BYTES 256u /* a longer line goes out in pieces */

typedef void line_output(const char *text, size_t len);

struct lines {
    const char *name;
    line_output *output;
    size_t length; /* below LINE_MAX_BYTES */
    char text[LINE_MAX_BYTES];
};

/* No line begun. `name` is kept, not copied. */
void lines_init(struct lines *lines, const char *name, line_output *output);

/* The next byte. A line feed sends the line as "NAME| ...", a full buffer as "NAME+ ...". */
void lines_add(struct lines *lines, uint8_t byte);

/* Send an unfinished line on as it is, as "NAME+ ...". */
void lines_flush(struct lines *lines);

#endif
