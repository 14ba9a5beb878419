/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts of devices are writes to an address range of their own, which the tables of vtd.c do
 * not see: a unit has another table for them (5.1). Twofold waits for none, so that no entry is
 * present, and what asks for one is blocked; those in the format that needs no entry are, too
 * (COMMAND_COMPATIBLE). Section numbers are vtd_unit.h's.
 */
#include "drivers/vtd_unit.h"
#include "hv/arch.h"

#define TABLE_ENTRIES_256 7u /* REG_INTERRUPTS: 2^(n + 1) entries of 16 bytes, 11.4.7 */

/* Descriptors of the queue, 6.5.2: two words each. */
#define DESCRIPTOR_WORDS   2u
#define DESCRIPTOR_BYTES   16u
#define INVALIDATE_ENTRIES 0x4ull /* interrupt entries, all of them, 6.5.2.7 */
#define WAIT_DESCRIPTOR    0x5ull /* 6.5.2.8 */
#define WAIT_WRITES_STATUS (1ull << 5)
#define WAIT_STATUS(value) ((uint64_t)(value) << 32)
#define DONE               1u
#define DESCRIPTORS        2u   /* that are used */
#define STATUS_WORD        256u /* of the queue's page, far behind those */

bool vtd_interrupts_can(const struct unit *u)
{
    return (u->extended & EXTENDED_INTERRUPT) && (u->extended & EXTENDED_QUEUE);
}

static bool wait_done(volatile const uint64_t *status)
{
    uint64_t start = time_now();

    while ((uint32_t)*status != DONE) {
        if (!unit_wait(start))
            return false;
    }
    return true;
}

/* What is cached of an earlier table goes by the queue alone, 6.5.1. The unit has a new one each
 * time, from its beginning: vtd.c works with the registers. */
static bool forget_entries(const struct unit *u)
{
    uint64_t *queue = u->queue;
    hpa_t at = host_hpa(queue);

    queue[0] = INVALIDATE_ENTRIES;
    queue[1] = 0;
    queue[DESCRIPTOR_WORDS] = WAIT_DESCRIPTOR | WAIT_WRITES_STATUS | WAIT_STATUS(DONE);
    queue[DESCRIPTOR_WORDS + 1] = at.v + STATUS_WORD * sizeof(uint64_t);
    queue[STATUS_WORD] = 0;
    if (!(u->extended & EXTENDED_COHERENT))
        __asm__ volatile("wbinvd" : : : "memory");
    unit_write64(u, REG_QUEUE_TAIL, 0);
    unit_write64(u, REG_QUEUE, at.v); /* one page */
    if (!unit_command(u, COMMAND_QUEUE, true))
        return false;
    unit_write64(u, REG_QUEUE_TAIL, (uint64_t)DESCRIPTORS * DESCRIPTOR_BYTES);
    bool done = wait_done(&queue[STATUS_WORD]);
    return unit_command(u, COMMAND_QUEUE, false) && done;
}

/* With x2APIC on the processors, too, 8-bit destinations do: there is no entry that has one. */
bool vtd_interrupts_block(struct unit *u)
{
    if (!u->interrupts || !u->queue)
        return false;
    if (!unit_command(u, COMMAND_INTERRUPTS, false) || !unit_command(u, COMMAND_COMPATIBLE, false))
        return false;
    unit_write64(u, REG_INTERRUPTS, host_hpa(u->interrupts).v | TABLE_ENTRIES_256);
    return unit_command(u, COMMAND_TABLE, true) && forget_entries(u) &&
           unit_command(u, COMMAND_INTERRUPTS, true);
}
