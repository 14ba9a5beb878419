/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop: never ends. Argument how=jump (a tight loop without exits), exits (a loop of CPUID) or halt
 * (HLT with interrupts off, which nothing can end).
 */
#include "guest-tests/lib/lib.h"

void guest_main(void)
{
    char how[8] = "jump";

    arg_word("how", how, sizeof(how));
    args_done();
    print("looping by %s\n", how);
    if (how[0] == 'h') {
        for (;;)
            __asm__ volatile("cli; hlt");
    }
    if (how[0] == 'e') {
        for (;;)
            cpuid(0, 0);
    }
    for (;;)
        __asm__ volatile("");
}
