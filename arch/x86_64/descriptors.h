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

/* Load the tables on this processor. Selectors and vectors are valid from here on. */
void descriptors_load(void);

/* Give interrupt stack `slot` (IST_*) its top. */
void descriptors_set_stack(unsigned slot, uint64_t top);

/* What the VMCS' host state needs. */
uint64_t descriptors_gdt_base(void);
uint64_t descriptors_idt_base(void);
uint64_t descriptors_tss_base(void);
#endif

#endif
