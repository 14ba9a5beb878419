/* SPDX-License-Identifier: BSD-2-Clause */
/* See font.h. The format: "The PC Screen Font formats". */
#include "drivers/font.h"

#include <stddef.h>

#define PSF1_MAGIC_0    0x36u
#define PSF1_MAGIC_1    0x04u
#define PSF1_MODE_512   0x01u /* 512 glyphs instead of 256 */
#define PSF1_MODE_TABLE 0x02u /* a table of characters follows the glyphs */
#define PSF1_SEQUENCE   0xfffeu
#define PSF1_END        0xffffu
#define HEADER_BYTES    4u

/* drivers/font_data.S */
extern const uint8_t font_file[], font_file_end[];

/* The table has, for each glyph in turn, 16-bit characters, then sequences of them, then PSF1_END.
 */
static void read_table(struct font *font, const uint8_t *glyphs, const uint8_t *at)
{
    uint32_t index = 0;
    bool in_sequence = false;

    for (; at + 1 < font_file_end; at += 2) {
        unsigned character = at[0] | (unsigned)at[1] << 8;
        if (character == PSF1_END) {
            index++;
            in_sequence = false;
        } else if (character == PSF1_SEQUENCE) {
            in_sequence = true;
        } else if (!in_sequence && character < FONT_CHARACTERS) {
            font->glyph[character] = glyphs + (uint64_t)index * font->height;
        }
    }
}

bool font_load(struct font *font)
{
    uint64_t size = (uint64_t)(font_file_end - font_file);

    *font = (struct font){.height = 0};
    if (size < HEADER_BYTES || font_file[0] != PSF1_MAGIC_0 || font_file[1] != PSF1_MAGIC_1 ||
        !(font_file[2] & PSF1_MODE_TABLE))
        return false;
    uint64_t count = font_file[2] & PSF1_MODE_512 ? 512 : 256;
    font->height = font_file[3];
    uint64_t glyph_bytes = count * font->height;
    if (size - HEADER_BYTES < glyph_bytes)
        return false;
    read_table(font, font_file + HEADER_BYTES, font_file + HEADER_BYTES + glyph_bytes);
    for (unsigned c = ' '; c <= '~'; c++) {
        if (!font->glyph[c])
            return false;
    }
    return true;
}
