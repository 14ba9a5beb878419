/* SPDX-License-Identifier: BSD-2-Clause */
/* The oracle driven by libFuzzer: the bytes are the chances of one guest program. `make
 * oracle-fuzz`. */
#include "tests/oracle/oracle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct machine m;

    if (!m.ram && !machine_create(&m))
        abort();
    m.chance = (struct chance){.bytes = data, .left = size};
    if (!program_run(&m, 2000)) {
        fprintf(stderr, "difference: %s\n", m.wrong);
        abort();
    }
    return 0;
}
