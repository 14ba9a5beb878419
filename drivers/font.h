/* SPDX-License-Identifier: BSD-2-Clause */
/* The console's font: Spleen 8x16 (Frederic Cambus, BSD-2-Clause) from Debian's package
 * fonts-spleen, in PSF2. */
#ifndef DRIVERS_FONT_H
#define DRIVERS_FONT_H

#include <stdbool.h>
#include <stdint.h>

struct font {
    const uint8_t *glyphs;
    uint32_t count;
    uint32_t bytes_per_glyph;
    uint32_t bytes_per_row;
    uint32_t width, height; /* pixels */
};

/* Read the PSF2 file that is linked in. False when it is not one. */
bool font_load(struct font *font);

/* The rows of a character's glyph, most significant bit leftmost. */
const uint8_t *font_glyph(const struct font *font, unsigned character);

#endif
