/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console's font: Spleen 8x16 (Frederic Cambus, BSD-2-Clause) from Debian's package
 * fonts-spleen, in PSF1: a header, the glyphs, and for each glyph the characters that it stands
 * for.
 */
#ifndef DRIVERS_FONT_H
#define DRIVERS_FONT_H

#include <stdbool.h>
#include <stdint.h>

#define FONT_CHARACTERS 128u /* ASCII */
#define FONT_WIDTH      8u   /* pixels; PSF1 knows no other */

struct font {
    const uint8_t *glyph[FONT_CHARACTERS]; /* a byte a row, most significant bit leftmost */
    uint32_t height;                       /* pixels */
};

/* Read the file that is linked in. False when it is no PSF1 file, or lacks a printable ASCII
 * character. */
bool font_load(struct font *font);

#endif
