/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Supervisor shadow stacks (SDM 1 17.2): the processor keeps a second copy of each return address,
 * where ordinary stores cannot reach, and compares. Whoever overwrites a stack then cannot choose
 * where the hypervisor returns to. Of control-flow enforcement's other half, indirect-branch
 * tracking, nothing is used: it would cost each exit some ENDBR instructions, on all processors.
 */
#ifndef ARCH_CET_H
#define ARCH_CET_H

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/processor.h"
#include "hv/why.h"

#define S_CET_SHADOW_STACKS BIT(0) /* SH_STK_EN */
#define S_CET_WRITE         BIT(1) /* WR_SHSTK_EN */

/* Whether shadow stacks are used: decided once for all processors, by this one's features. Says so.
 */
void cet_choose(bool wanted);
bool cet_is_on(void);

/* Make this processor's shadow stacks, if they are used. */
bool cet_prepare(struct why *why);

/* Begin to use them, in a function that never returns: what has been called up to here is not on
 * the shadow stack. */
__attribute__((always_inline)) static inline void cet_begin(void)
{
    struct processor *self = this_processor();

    if (!self->shadow_token)
        return;
    wrmsr(MSR_PL0_SSP, self->shadow_token);
    wrmsr(MSR_SSP_TABLE, (uint64_t)self->shadow_table);
    wrmsr(MSR_S_CET, S_CET_SHADOW_STACKS);
    /* Nothing between the two may touch the shadow stack. */
    __asm__ volatile("movq %0, %%cr4\n\t"
                     "setssbsy"
                     :
                     : "r"(read_cr4() | CR4_CET)
                     : "memory");
}

/* The shadow stack pointer; 0 while there is none. RDSSP does nothing then (SDM 2B). */
static inline uint64_t cet_pointer(void)
{
    uint64_t pointer = 0;

    __asm__ volatile("rdsspq %0" : "+r"(pointer));
    return pointer;
}

/* Write a word of a shadow stack: for the few returns that are to lead elsewhere (trap.c). */
void cet_write(uint64_t at, uint64_t value);

#endif
