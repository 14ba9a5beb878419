/* SPDX-License-Identifier: BSD-2-Clause */
/* nowhere: jumps to guest-physical memory where there is neither RAM nor device. */
#include "guest-tests/lib/lib.h"

void guest_main(void)
{
    print("about to jump to nowhere\n");
    ((void (*)(void))0xe0000000)();
}
