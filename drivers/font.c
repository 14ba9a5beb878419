/* SPDX-License-Identifier: BSD-2-Clause */
/* See font.h. */
#include "drivers/font.h"

#include <string.h>

#define PSF2_MAGIC 0x864ab572u

/* "The PC Screen Font formats", psf2_header */
struct psf2_header {
    uint32_t magic, version, header_size, flags;
    uint32_t length, char_size, height, width;
};

/* drivers/font_data.S */
extern const uint8_t font_file[], font_file_end[];

bool font_load(struct font *font)
{
    struct psf2_header header;
    uint64_t size = (uint64_t)(font_file_end - font_file);

    if (size < sizeof(header))
        return false;
    memcpy(&header, font_file, sizeof(header));
    *font = (struct font){
        .glyphs = font_file + header.header_size,
        .count = header.length,
        .bytes_per_glyph = header.char_size,
        .bytes_per_row = (header.width + 7) / 8,
        .width = header.width,
        .height = header.height,
    };
    return header.magic == PSF2_MAGIC && header.width > 0 && header.length > 0 &&
           header.header_size + (uint64_t)header.length * header.char_size <= size &&
           font->bytes_per_row * header.height <= header.char_size;
}

const uint8_t *font_glyph(const struct font *font, unsigned character)
{
    if (character >= font->count)
        character = '?';
    return font->glyphs + (uint64_t)character * font->bytes_per_glyph;
}
