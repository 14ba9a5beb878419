/* SPDX-License-Identifier: BSD-2-Clause */
/* Exceptions: an IDT for the first 32 vectors, one handler of the test's for all. */
#include "guest-tests/lib/lib.h"
#include "guest-tests/lib/segments.h"

#define VECTORS        32u
#define STUB_BYTES     16u
#define GATE_INTERRUPT 0x8eull

struct gate {
    uint64_t low, high;
};

extern const char trap_stubs[];
void trap_common_c(struct trap *trap);

static struct gate idt[VECTORS];
static trap_handler *handler;

void trap_set_handler(trap_handler *new_handler)
{
    handler = new_handler;
}

void trap_common_c(struct trap *trap)
{
    if (handler && handler(trap))
        return;
    fail("unexpected exception %u, error code 0x%x, rip 0x%x, cr2 0x%x\n", trap->vector,
         trap->error_code, trap->rip, read_cr2());
}

void traps_init(void)
{
    uint16_t cs;

    __asm__ volatile("mov %%cs, %0" : "=r"(cs));
    for (unsigned v = 0; v < VECTORS; v++) {
        uint64_t at = (uint64_t)trap_stubs + v * STUB_BYTES;
        idt[v] = (struct gate){
            .low = (at & 0xffff) | (uint64_t)cs << 16 | GATE_INTERRUPT << 40 |
                   (at >> 16 & 0xffff) << 48,
            .high = at >> 32,
        };
    }
    struct table_register idtr = {sizeof(idt) - 1, (uint64_t)idt};
    __asm__ volatile("lidt %0" : : "m"(idtr));
}
