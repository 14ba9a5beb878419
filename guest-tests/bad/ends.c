/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ends: ends in each way that a guest can. Argument how=exit (with value=N on the debug-exit port),
 * shutdown (Bochs' port), partial (a line without its end, then exit), bytes (every byte value and
 * some long lines, then exit).
 */
#include "guest-tests/lib/lib.h"

#define LONG_LINES 300u
#define LONG_LINE  333u

static void print_bytes(void)
{
    for (unsigned value = 0; value < 256; value++)
        print("%c", (int)value);
    for (unsigned line = 0; line < LONG_LINES; line++) {
        for (unsigned i = 0; i < LONG_LINE; i++)
            print("%c", (int)('a' + (line + i) % 26));
        print("\n");
    }
}

void guest_main(void)
{
    char how[16] = "exit";
    uint64_t value = arg_number("value", 0);

    arg_word("how", how, sizeof(how));
    args_done();
    if (how[0] == 's') {
        for (const char *c = "Shutdown"; *c; c++)
            outb(TF_PORT_BOCHS_SHUTDOWN, (uint8_t)*c);
    }
    if (how[0] == 'p')
        print("a line\nand a piece");
    if (how[0] == 'b')
        print_bytes();
    guest_exit((uint32_t)value);
}
