/* SPDX-License-Identifier: BSD-2-Clause */
/* triple: an exception with an IDT that is empty: a triple fault. */
#include "guest-tests/lib/lib.h"
#include "guest-tests/lib/segments.h"

void guest_main(void)
{
    struct table_register none = {0, 0};

    print("about to fault three times\n");
    __asm__ volatile("lidt %0; ud2" : : "m"(none));
}
