/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gaps: reads the time-stamp counter for ever, and tells each time that it was kept from it for
 * longer than ever before: how long others have held its processor.
 */
#include "guest-tests/lib/lib.h"

#define WORTH_TELLING 100000u /* ticks */

void guest_main(void)
{
    uint64_t longest = WORTH_TELLING;

    args_done();
    for (uint64_t before = rdtsc(), now;; before = now) {
        now = rdtsc();
        if (now - before <= longest)
            continue;
        longest = now - before;
        print("longest gap %u\n", longest);
        now = rdtsc(); /* its own printing is not meant */
    }
}
