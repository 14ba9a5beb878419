/* SPDX-License-Identifier: BSD-2-Clause */
/* A remapping unit: its registers, and what vtd.c and vtd_interrupts.c both do with them. Section
 * numbers are those of "Intel Virtualization Technology for Directed I/O", 4.1. */
#ifndef DRIVERS_VTD_UNIT_H
#define DRIVERS_VTD_UNIT_H

#include "hv/memory.h"
#include "hv/types.h"

/* Registers, 11.4 */
enum {
    REG_VERSION = 0x00,
    REG_CAPABILITY = 0x08,
    REG_EXTENDED = 0x10,
    REG_COMMAND = 0x18,
    REG_STATUS = 0x1c,
    REG_ROOT = 0x20,
    REG_CONTEXT = 0x28,
    REG_FAULT_STATUS = 0x34,
    REG_FAULT_CONTROL = 0x38,
    REG_QUEUE_TAIL = 0x88,
    REG_QUEUE = 0x90,
    REG_INTERRUPTS = 0xb8,
};
#define REGISTER_BYTES PAGE_SIZE /* those above; others may lie behind */

/* Of the command and status registers, 11.4.4 */
#define COMMAND_ENABLE       (1u << 31)
#define COMMAND_ROOT         (1u << 30)
#define COMMAND_WRITE_BUFFER (1u << 27)
#define COMMAND_QUEUE        (1u << 26)
#define COMMAND_INTERRUPTS   (1u << 25)  /* remap them */
#define COMMAND_TABLE        (1u << 24)  /* take over the table of REG_INTERRUPTS */
#define COMMAND_COMPATIBLE   (1u << 23)  /* let those through that are not to be remapped */
#define COMMAND_ONE_SHOT     0x69000000u /* SRTP, SFL, WBF, SIRTP: acts, and is no state */

#define CAP_DOMAINS(c)       (1u << (4 + 2 * ((c)&7)))
#define CAP_WRITE_BUFFER     (1ull << 4)
#define CAP_LEVELS_3         (1ull << 9)
#define CAP_LEVELS_4         (1ull << 10)
#define CAP_FAULTS_AT(c)     (((c) >> 24 & 0x3ff) * 16)
#define CAP_FAULTS(c)        (((c) >> 40 & 0xff) + 1)
#define CAP_WRITE_DRAIN      (1ull << 54)
#define CAP_READ_DRAIN       (1ull << 55)
#define EXTENDED_COHERENT    (1ull << 0)
#define EXTENDED_QUEUE       (1ull << 1)
#define EXTENDED_INTERRUPT   (1ull << 3)
#define EXTENDED_IOTLB(e)    (((e) >> 8 & 0x3ff) * 16)
#define IOTLB_INVALIDATE     8u /* register behind the invalidate-address register */
#define CONTEXT_INVALIDATE   (1ull << 63 | 1ull << 61) /* all */
#define CONTEXT_BUSY         (1ull << 63)
#define IOTLB_ALL            (1ull << 63 | 1ull << 60)
#define IOTLB_BUSY           (1ull << 63)
#define IOTLB_DRAIN_READS    (1ull << 49)
#define IOTLB_DRAIN_WRITES   (1ull << 48)
#define FAULT_OVERFLOW       (1u << 0)
#define FAULT_PENDING        (1u << 1)
#define FAULT_CONTROL_MASK   (1u << 31)
#define FAULT_RECORD_BYTES   16u
#define FAULT_RECORD_F       (1ull << 63) /* of the upper half, 11.4.9.10 */
#define FAULT_RECORD_READ    (1ull << 62)
#define FAULT_REASON(high)   ((unsigned)((high) >> 32 & 0xff))
#define FAULT_SOURCE(high)   ((unsigned)(high)&0xffff)
#define FAULT_INDEX(low)     ((unsigned)((low) >> 48)) /* of an interrupt's */
#define FAULT_INTERRUPTS     0x20u                     /* reasons from here to */
#define FAULT_INTERRUPTS_END 0x28u                     /* here, 7.1.3 */

struct root_entry {
    uint64_t low, high;
};

struct unit {
    uint64_t at; /* physical */
    volatile uint8_t *registers;
    uint64_t capability, extended;
    struct root_entry *root; /* one page: an entry for each bus */
    uint64_t *interrupts;    /* one page: the table of interrupts, in which none is present */
    uint64_t *queue;         /* one page: the invalidation queue, and what comes of it */
    uint16_t segment;
    bool on;             /* blocks memory */
    bool interrupts_off; /* and interrupts */
};

/* `at`: a register's offset in bytes. */
uint32_t unit_read32(const struct unit *u, uint64_t at);
uint64_t unit_read64(const struct unit *u, uint64_t at);
void unit_write32(const struct unit *u, uint64_t at, uint32_t value);
void unit_write64(const struct unit *u, uint64_t at, uint64_t value);

/* A moment of a wait that began at `start`, TSC. False when it has taken a tenth of a second. */
bool unit_wait(uint64_t start);

/* Wait until `bits` of a 64-bit register are 0. This and the others that wait return false if it
 * takes a tenth of a second. */
bool unit_wait_clear(const struct unit *u, uint64_t at, uint64_t bits);

/* Set or clear one bit of the command, 11.4.4.1; wait for the status to follow; both. */
void unit_write_command(const struct unit *u, uint32_t bit, bool set);
bool unit_wait_status(const struct unit *u, uint32_t bit, bool set);
bool unit_command(const struct unit *u, uint32_t bit, bool set);

/* Whether the unit can remap interrupts. */
bool vtd_interrupts_can(const struct unit *u);

/* Keep all interrupts of the unit's devices from the processors, those of I/O APICs included. False
 * if the unit cannot, or has no memory for it, or does not do what it is told. */
bool vtd_interrupts_block(struct unit *u);

#endif
