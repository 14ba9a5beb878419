/* SPDX-License-Identifier: BSD-2-Clause */
/* A text console on the firmware's linear framebuffer. */
#ifndef DRIVERS_SCREEN_H
#define DRIVERS_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

#include "boot/handoff.h"

/*
 * Use the framebuffer `fb`, mapped at `pixels` (it is only written, never read). False when it is
 * too small for text or its size contradicts itself; then screen_write does nothing.
 */
bool screen_init(void *pixels, const struct handoff_framebuffer *fb);

/* A console sink. */
void screen_write(const char *text, size_t len);

#endif
