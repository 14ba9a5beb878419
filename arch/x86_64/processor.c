/* SPDX-License-Identifier: BSD-2-Clause */
/* See processor.h; starting the other processors is smp.c. */
#include "arch/x86_64/processor.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/trap.h"
#include "drivers/apic.h"

static struct processor boot_processor;
static struct processor *processors[PROCESSORS_MAX] = {&boot_processor};
static unsigned count = 1;

unsigned processor_count(void)
{
    return __atomic_load_n(&count, __ATOMIC_ACQUIRE);
}

unsigned processor_index(void)
{
    return this_processor()->index;
}

struct processor *processor_at(unsigned index)
{
    ASSERT(index < processor_count());
    return processors[index];
}

void processor_relax(void)
{
    cpu_pause();
}

void processor_kick(unsigned index)
{
    apic_send_kick(processor_at(index)->apic_id);
}

/*
 * Interrupts are off all the time before trap_wait, so that a kick stays pending in the local APIC
 * and ends the wait at once. Whoever runs a guest next arms the timer anew.
 */
void processor_idle(uint64_t until)
{
    apic_timer_once(until);
    trap_wait();
    apic_timer_once(APIC_TIMER_NEVER);
}

void processor_add(struct processor *p)
{
    ASSERT(p->index == count && count < PROCESSORS_MAX);
    processors[count] = p;
    __atomic_store_n(&count, count + 1, __ATOMIC_RELEASE);
}

/* Nothing here may use this_processor(). */
void processor_enter(struct processor *self)
{
    self->self = self;
    descriptors_load(&self->descriptors);
    wrmsr(MSR_GS_BASE, (uint64_t)self);
}

void processor_init_boot(void)
{
    descriptors_init();
    processor_enter(&boot_processor);
}
