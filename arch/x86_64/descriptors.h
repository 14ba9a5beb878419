/* SPDX-License-Identifier: BSD-2-Clause */
/* The hypervisor's GDT, TSS and IDT (SDM 3A 3.4.5, 6.10, 8.2.3). */
#ifndef ARCH_DESCRIPTORS_H
#define ARCH_DESCRIPTORS_H

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS  0x18

/* Interrupt-stack-table slots: faults that must not trust the stack they happen on get their own.
 */
#define IST_DOUBLE_FAULT  1
#define IST_NMI           2
#define IST_MACHINE_CHECK 3
#define IST_COUNT         3

#ifndef __ASSEMBLER__
#include <stdint.h>

#define GDT_ENTRIES 5 /* a TSS descriptor takes two */

/* SDM 3A figure 8-11 */
struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
} __attribute__((packed));
_Static_assert(sizeof(struct tss) == 104, "SDM 3A figure 8-11");

/* What each processor has of its own; the IDT is the same for all. */
struct descriptors {
    uint64_t gdt[GDT_ENTRIES];
    struct tss tss;
};

/* Fill the IDT: once, before the first descriptors_load. */
void descriptors_init(void);

/* Fill `own` but its interrupt stacks, and load it and the IDT on this processor. Selectors and
 * vectors are valid from here on; FS and GS bases are 0. */
void descriptors_load(struct descriptors *own);

/* Give interrupt stack `slot` (IST_*) its top; the top that it has, 0 for none. */
void descriptors_set_stack(struct descriptors *own, unsigned slot, uint64_t top);
uint64_t descriptors_stack(const struct descriptors *own, unsigned slot);

uint64_t descriptors_idt_base(void);
#endif

#endif
