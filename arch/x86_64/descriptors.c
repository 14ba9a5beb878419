/* SPDX-License-Identifier: BSD-2-Clause */
/* See descriptors.h. */
#include "arch/x86_64/descriptors.h"

#include "arch/x86_64/trap.h"
#include "hv/types.h"

/*
 * Segment descriptors, SDM 3A figure 3-8: 64-bit mode ignores base and limit of code and data, so
 * only the access byte and the L bit count.
 */
#define DESCRIPTOR_CODE64 0x00209b0000000000ull /* P, S, code, read, accessed; L */
#define DESCRIPTOR_DATA   0x0000930000000000ull /* P, S, data, write, accessed */
#define TSS_AVAILABLE     0x89u                 /* P, 64-bit TSS */
#define GATE_INTERRUPT    0x8e00u               /* P, DPL 0, 64-bit interrupt gate */

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_mid;
    uint32_t offset_high;
    uint32_t reserved;
};
_Static_assert(sizeof(struct gate) == 16, "SDM 3A figure 6-8");

struct table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static struct gate idt[TRAP_VECTORS];

static uint8_t ist_of(unsigned vector)
{
    switch (vector) {
    case 2: /* NMI */
        return IST_NMI;
    case 8: /* #DF */
        return IST_DOUBLE_FAULT;
    case 18: /* #MC */
        return IST_MACHINE_CHECK;
    default:
        return 0;
    }
}

static void fill(struct descriptors *own)
{
    uint64_t base = (uint64_t)&own->tss;
    uint64_t limit = sizeof(own->tss) - 1;

    own->gdt[SELECTOR_CODE / 8] = DESCRIPTOR_CODE64;
    own->gdt[SELECTOR_DATA / 8] = DESCRIPTOR_DATA;
    own->gdt[SELECTOR_TSS / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 |
                                 (uint64_t)TSS_AVAILABLE << 40 | (base >> 24 & 0xff) << 56;
    own->gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
    own->tss.io_map = sizeof(own->tss);
}

void descriptors_init(void)
{
    for (unsigned vector = 0; vector < TRAP_VECTORS; vector++) {
        uint64_t entry = (uint64_t)trap_stubs + vector * TRAP_STUB_SIZE;
        idt[vector] = (struct gate){
            .offset_low = (uint16_t)entry,
            .selector = SELECTOR_CODE,
            .ist = ist_of(vector),
            .type = GATE_INTERRUPT >> 8,
            .offset_mid = (uint16_t)(entry >> 16),
            .offset_high = (uint32_t)(entry >> 32),
        };
    }
}

void descriptors_load(struct descriptors *own)
{
    fill(own);

    struct table_register gdtr = {sizeof(own->gdt) - 1, (uint64_t)own->gdt};
    struct table_register idtr = {sizeof(idt) - 1, (uint64_t)idt};

    __asm__ volatile("lgdt %[gdtr]\n\t"
                     "pushq %[code]\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "movl %[data], %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%ss\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "lldt %%ax\n\t"
                     "movl %[tss], %%eax\n\t"
                     "ltr %%ax\n\t"
                     "lidt %[idtr]"
                     :
                     : [gdtr] "m"(gdtr), [idtr] "m"(idtr), [code] "i"(SELECTOR_CODE),
                       [data] "i"(SELECTOR_DATA), [tss] "i"(SELECTOR_TSS)
                     : "rax", "memory");
}

void descriptors_set_stack(struct descriptors *own, unsigned slot, uint64_t top)
{
    own->tss.ist[slot - 1] = top;
}

uint64_t descriptors_stack(const struct descriptors *own, unsigned slot)
{
    return own->tss.ist[slot - 1];
}

uint64_t descriptors_idt_base(void)
{
    return (uint64_t)idt;
}
