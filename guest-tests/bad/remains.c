/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * remains: looks for what others left in the RAM that it was given, all of which must be zeros
 * above its image, but for what the loader put there; then leaves something of its own. It does so
 * twice, with a reset between, of which it knows by a mark in the CMOS RAM (on_reset = restart).
 */
#include "guest-tests/lib/lib.h"

#define PORT_CMOS_INDEX 0x70u
#define PORT_CMOS_DATA  0x71u
#define CMOS_MARK       0x70u /* RAM that no firmware uses */
#define MARK            0x5au

#define PORT_RESET 0xcf9u
#define RESET_HARD 0x02u
#define RESET_NOW  0x06u

#define SECRET 0x5ec2e75ec2e75ec2ull

static bool is_loaders(uint64_t page)
{
    return page >= guest_info->reserved_base &&
           page - guest_info->reserved_base < guest_info->reserved_size;
}

/* Whole pages: how many words of them are not 0. */
static uint64_t look_and_fill(void)
{
    uint64_t end = guest_info->ram[0].base + guest_info->ram[0].size, found = 0;

    /* Frames are given in their order: all behind this one is as it came. */
    for (uint64_t page = page_alloc() + PAGE; page < end; page += PAGE) {
        volatile uint64_t *word = (volatile uint64_t *)page;
        for (unsigned i = 0; i < PAGE / sizeof(*word) && !is_loaders(page); i++) {
            found += word[i] != 0;
            word[i] = SECRET;
        }
    }
    return found;
}

void guest_main(void)
{
    args_done();
    uint64_t found = look_and_fill();
    if (found > 0)
        fail("%u words of RAM were not cleared\n", found);
    outb(PORT_CMOS_INDEX, CMOS_MARK);
    if (inb(PORT_CMOS_DATA) == MARK) {
        print("nothing remains\n");
        return;
    }
    outb(PORT_CMOS_DATA, MARK);
    outb(PORT_RESET, RESET_HARD);
    outb(PORT_RESET, RESET_NOW);
    fail("still here after a reset\n");
}
