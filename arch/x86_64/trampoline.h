/* SPDX-License-Identifier: BSD-2-Clause */
/* Between smp.c and trampoline.S: the page in which processors start, code first, then the data. */
#ifndef ARCH_TRAMPOLINE_H
#define ARCH_TRAMPOLINE_H

#define TRAMPOLINE_DATA 0x800 /* in the page; a struct trampoline */

/* Offsets in it */
#define TRAMPOLINE_CLAIM    0x00
#define TRAMPOLINE_LOW_ROOT 0x04
#define TRAMPOLINE_CR0      0x08
#define TRAMPOLINE_FAR32    0x10
#define TRAMPOLINE_FAR64    0x18
#define TRAMPOLINE_GDTR     0x20
#define TRAMPOLINE_ROOT     0x28
#define TRAMPOLINE_STACK    0x30
#define TRAMPOLINE_SELF     0x38
#define TRAMPOLINE_ENTRY    0x40

#ifndef __ASSEMBLER__
#include "arch/x86_64/processor.h"

/* A far pointer: the operand of a jump that loads CS. */
struct far_pointer {
    uint32_t offset;
    uint16_t selector, unused;
};

struct trampoline {
    uint32_t claim;    /* 1: a start is to be had; the processor that gets it writes 0 */
    uint32_t low_root; /* page tables below 4 GiB, for the way into long mode */
    uint32_t cr0;
    uint32_t unused;
    struct far_pointer far32, far64;
    uint16_t gdt_limit, gdt_base_low, gdt_base_high, unused2;
    uint64_t root; /* CR3 */
    uint64_t stack;
    struct processor *self;
    void (*entry)(struct processor *self);
};
_Static_assert(offsetof(struct trampoline, cr0) == TRAMPOLINE_CR0 &&
                   offsetof(struct trampoline, far32) == TRAMPOLINE_FAR32 &&
                   offsetof(struct trampoline, gdt_limit) == TRAMPOLINE_GDTR &&
                   offsetof(struct trampoline, root) == TRAMPOLINE_ROOT &&
                   offsetof(struct trampoline, entry) == TRAMPOLINE_ENTRY,
               "trampoline.S has these offsets");

extern const char trampoline_start[], trampoline_code32[], trampoline_code64[], trampoline_gdt[],
    trampoline_end[];
#endif

#endif
