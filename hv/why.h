/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why an operation failed, in words for the person who can mend it.
 *
 * A function that can fail for a reason the user must hear takes a `struct why *`, and on failure
 * returns `why_set(...)`: one sentence that names the file, the line or the cause.
 */
#ifndef HV_WHY_H
#define HV_WHY_H

#include <stdbool.h>

struct why {
    char text[240];
};

/* Format the reason (printf style, truncated to fit). Returns false always, to be returned on. */
__attribute__((format(printf, 2, 3))) bool why_set(struct why *why, const char *format, ...);

#endif
