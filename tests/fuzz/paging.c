/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hv/paging under the oracle (docs/oracle.md): the input's bytes are the chances of one guest
 * program. Every access of a modelled processor with a TLB must end as the architecture says.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/oracle/oracle.h"

#define OPERATIONS 2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct machine m;

    if (!m.ram && !machine_create(&m))
        abort();
    m.chance = (struct chance){.bytes = data, .left = size};
    MUST(program_run(&m, OPERATIONS), "difference: %s", m.wrong);
    return 0;
}
