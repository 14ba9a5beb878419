/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor's keys and commands: byte 0 of the input chooses which VMs are there and how fast
 * they answer, the rest is typed. Whatever is typed: only text goes to the console, no key is
 * doubled, and Ctrl-A c, Ctrl-C gives the keys back to a guest.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/host/monitor_world.h"

#define KEYS_MAX 400u

/* Letters, line ends, and the backspaces of the line's echo: nothing that moves a terminal about.
 */
static void check_said(void)
{
    for (const char *c = said; *c; c++)
        MUST((*c >= ' ' && *c <= '~') || *c == '\n' || *c == '\b', "byte 0x%02x on the console",
             (unsigned char)*c);
}

/* Keys that guests got: "name:byte " each. */
static unsigned count_got(void)
{
    unsigned count = 0;

    for (const char *c = got; *c; c++)
        count += *c == ':';
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    unsigned choices = (unsigned)fuzz_take(&in, 1);
    size_t length = in.left < KEYS_MAX ? in.left : KEYS_MAX;

    begin();
    answers = (choices & 0x20) != 0;
    for (unsigned i = 0; i < VM_COUNT; i++) {
        there[i] = !(choices >> i & 1);
        ended[i] = choices & 0x40 ? VM_POWEROFF : VM_RUNNING;
    }
    if (choices & 0x80)
        vms[BETA].paused = true;
    for (size_t i = 0; i < length; i++) {
        type_bytes(in.bytes + i, 1);
        now += 7 * (choices & 0xf); /* answers that do not come are given up */
        check_said();
        said[0] = asked[0] = '\0';
    }
    MUST(count_got() <= length, "%u keys of %zu reached guests", count_got(), length);
    type("\x01"
         "c\x03");
    check_said();
    forget();
    type("x");
    bool anybody = (choices & 0x1f) != 0x1f;
    MUST(count_got() == anybody, "'x' went to: %s", got);
    return 0;
}
