/* SPDX-License-Identifier: BSD-2-Clause */
/* The text console, drawn into memory and read back by comparing cells with the font's glyphs. */
#include "drivers/screen.h"

#include <stdlib.h>
#include <string.h>

#include "drivers/font.h"
#include "tests/host/test.h"

#define WIDTH  800u
#define HEIGHT 160u
#define STRIDE 832u

static uint32_t pixels[STRIDE * HEIGHT];
static struct font font;

static const struct handoff_framebuffer framebuffer = {.size = sizeof(pixels),
                                                       .width = WIDTH,
                                                       .height = HEIGHT,
                                                       .stride = STRIDE,
                                                       .format = HANDOFF_PIXEL_BGRX};

static void start(void)
{
    memset(pixels, 0x55, sizeof(pixels));
    font_load(&font);
    CHECK(screen_init(pixels, &framebuffer), "refused");
}

static void say(const char *text)
{
    screen_write(text, strlen(text));
}

static bool cell_shows(unsigned row, unsigned column, unsigned character)
{
    const uint8_t *glyph = font.glyph[character];

    for (unsigned y = 0; y < font.height; y++) {
        for (unsigned x = 0; x < FONT_WIDTH; x++) {
            bool want = glyph[y] >> (7 - x) & 1;
            bool lit = pixels[(row * font.height + y) * STRIDE + column * FONT_WIDTH + x] != 0;
            if (want != lit)
                return false;
        }
    }
    return true;
}

static bool row_shows(unsigned row, const char *text)
{
    unsigned column = 0;

    for (; text[column]; column++) {
        if (!cell_shows(row, column, (unsigned char)text[column]))
            return false;
    }
    return cell_shows(row, column, ' ');
}

static void text_is_drawn_with_the_font(void)
{
    start();
    CHECK(font.height == 16, "font of height %u", font.height);
    CHECK(font.glyph['I'][8] == 0x18 || font.glyph['I'][8] == 0x3c, "the I is no I: 0x%x",
          font.glyph['I'][8]);
    CHECK(!cell_shows(0, 0, 'A') && cell_shows(0, 0, ' '), "not blank at the start");
    say("Ag%\n\tx\rB\x80");
    CHECK(row_shows(0, "Ag%"), "row 0");
    CHECK(cell_shows(1, 8, 'x') && cell_shows(1, 0, 'B') && cell_shows(1, 1, '?'), "row 1");
}

static void it_scrolls_at_the_end(void)
{
    char line[16];

    start();
    for (unsigned i = 0; i < 25; i++) {
        snprintf(line, sizeof(line), "line %u\n", i);
        say(line);
    }
    say("last");
    CHECK(row_shows(9, "last"), "last row");
    CHECK(row_shows(8, "line 24") && row_shows(0, "line 16"), "rows above");
}

static void long_lines_wrap(void)
{
    char line[151];

    start();
    memset(line, 'w', 150);
    line[150] = '\0';
    say(line);
    CHECK(cell_shows(0, 99, 'w') && cell_shows(1, 49, 'w') && cell_shows(1, 50, ' '), "wrap");
}

static void records_are_not_shown(void)
{
    start();
    say("one\n@bench {\"a\": ");
    say("1}\ntwo\n");
    CHECK(row_shows(0, "one") && row_shows(1, "two"), "records");
}

static void nothing_is_drawn_outside(void)
{
    start();
    for (unsigned i = 0; i < 5000; i++)
        say("x");
    for (unsigned y = 0; y < HEIGHT; y++) {
        for (unsigned x = WIDTH; x < STRIDE; x++)
            CHECK(pixels[y * STRIDE + x] == 0, "pixel %u, %u", x, y);
    }
}

/* From 2000 pixels of width on, each of the font's is two by two. */
static void large_screens_have_large_letters(void)
{
    static uint32_t large[2048 * 128];
    const struct handoff_framebuffer fb = {.size = sizeof(large),
                                           .width = 2048,
                                           .height = 128,
                                           .stride = 2048,
                                           .format = HANDOFF_PIXEL_BGRX};

    font_load(&font);
    CHECK(screen_init(large, &fb), "refused");
    say("\n@record\n R");
    for (unsigned y = 0; y < 2 * font.height; y++) {
        for (unsigned x = 0; x < 2 * FONT_WIDTH; x++) {
            bool want = font.glyph['R'][y / 2] >> (7 - x / 2) & 1;
            bool lit = large[(2 * font.height + y) * 2048 + 2 * FONT_WIDTH + x] != 0;
            CHECK(want == lit, "pixel %u, %u", x, y);
        }
    }
}

static void impossible_screens_are_refused(void)
{
    struct handoff_framebuffer fb = framebuffer;

    fb.size = 100;
    CHECK(!screen_init(pixels, &fb), "a size that does not hold the picture");
    fb = framebuffer;
    fb.stride = WIDTH - 1;
    CHECK(!screen_init(pixels, &fb), "a stride below the width");
    fb = framebuffer;
    fb.width = 100;
    CHECK(!screen_init(pixels, &fb), "too narrow");
    say("must go nowhere");
}

int main(void)
{
    RUN(text_is_drawn_with_the_font);
    RUN(it_scrolls_at_the_end);
    RUN(long_lines_wrap);
    RUN(records_are_not_shown);
    RUN(nothing_is_drawn_outside);
    RUN(large_screens_have_large_letters);
    RUN(impossible_screens_are_refused);
    return test_status();
}
