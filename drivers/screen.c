/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See screen.h. The text is kept in RAM, and only cells that have changed are drawn: reading a
 * framebuffer is slow, and scrolling by copying pixels would read it.
 */
#include "drivers/screen.h"

#include <stdint.h>
#include <string.h>

#include "drivers/font.h"

#define COLUMNS_MAX        256u
#define ROWS_MAX           128u
#define TAB_WIDTH          8u
#define BYTES_PER_PIXEL    4u
#define LARGE_SCREEN_WIDTH 2000u /* pixels from which the font is doubled */

#define COLOUR_TEXT       0x00d0d0d0u
#define COLOUR_BACKGROUND 0x00000000u

static volatile uint32_t *pixels;
static uint32_t stride; /* pixels a scan line */
static uint32_t scale;  /* screen pixels a font pixel, in both directions */
static struct font font;
static unsigned columns, rows;
static unsigned column, row;               /* where the next character goes */
static char wanted[ROWS_MAX][COLUMNS_MAX]; /* what the screen shall show */
static char drawn[ROWS_MAX][COLUMNS_MAX];  /* what it shows */
static bool changed[ROWS_MAX];             /* rows in which the two may differ */
static bool line_begins = true;            /* the next character is the first of its line */
static bool in_record;                     /* a line for programs ("@..."): not for people's eyes */

static void draw_cell(unsigned y, unsigned x, char c)
{
    const uint8_t *glyph = font.glyph[(unsigned char)c];
    uint32_t left = x * FONT_WIDTH * scale;
    uint32_t top = y * font.height * scale;

    for (uint32_t line = 0; line < font.height * scale; line++) {
        volatile uint32_t *at = pixels + (uint64_t)(top + line) * stride + left;
        uint8_t bits = glyph[line / scale];
        for (uint32_t i = 0; i < FONT_WIDTH * scale; i++) {
            bool set = bits >> (FONT_WIDTH - 1 - i / scale) & 1;
            at[i] = set ? COLOUR_TEXT : COLOUR_BACKGROUND;
        }
    }
}

static void redraw(void)
{
    for (unsigned y = 0; y < rows; y++) {
        if (!changed[y])
            continue;
        changed[y] = false;
        for (unsigned x = 0; x < columns; x++) {
            if (drawn[y][x] == wanted[y][x])
                continue;
            draw_cell(y, x, wanted[y][x]);
            drawn[y][x] = wanted[y][x];
        }
    }
}

static void next_line(void)
{
    column = 0;
    if (row + 1 < rows) {
        row++;
        return;
    }
    memmove(wanted[0], wanted[1], (rows - 1) * sizeof(wanted[0]));
    memset(wanted[rows - 1], ' ', sizeof(wanted[0]));
    memset(changed, true, sizeof(changed));
}

static void put(char c)
{
    if (c == '\n') {
        next_line();
    } else if (c == '\r') {
        column = 0;
    } else if (c == '\t') {
        column = (column / TAB_WIDTH + 1) * TAB_WIDTH;
    } else {
        if (column >= columns)
            next_line();
        changed[row] = true;
        wanted[row][column++] = c >= ' ' && c <= '~' ? c : '?';
    }
}

bool screen_init(void *mapped, const struct handoff_framebuffer *fb)
{
    pixels = NULL;
    scale = fb->width >= LARGE_SCREEN_WIDTH ? 2 : 1;
    if (!font_load(&font) || fb->stride < fb->width ||
        (uint64_t)fb->stride * fb->height * BYTES_PER_PIXEL > fb->size)
        return false;
    stride = fb->stride;
    columns = fb->width / (FONT_WIDTH * scale);
    rows = fb->height / (font.height * scale);
    columns = columns < COLUMNS_MAX ? columns : COLUMNS_MAX;
    rows = rows < ROWS_MAX ? rows : ROWS_MAX;
    if (columns < 40 || rows < 4)
        return false;
    pixels = mapped;
    for (uint64_t i = 0; i < (uint64_t)fb->stride * fb->height; i++)
        pixels[i] = COLOUR_BACKGROUND;
    memset(wanted, ' ', sizeof(wanted));
    memset(drawn, ' ', sizeof(drawn));
    column = 0;
    row = 0;
    return true;
}

void screen_write(const char *text, size_t len)
{
    if (!pixels)
        return;
    for (size_t i = 0; i < len; i++) {
        if (line_begins)
            in_record = text[i] == '@';
        line_begins = text[i] == '\n';
        if (!in_record)
            put(text[i]);
    }
    redraw();
}
