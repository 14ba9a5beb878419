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
    return count;
}

unsigned processor_index(void)
{
    return this_processor()->index;
}

struct processor *processor_at(unsigned index)
{
    ASSERT(index < count);
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
 * and ends the wait at once. The vCPU's periodic timer rests meanwhile.
 */
void processor_idle(uint64_t until)
{
    apic_timer_once(until);
    trap_wait();
    apic_timer_resume();
}

/* Nothing here may use this_processor(). */
static void enter(struct processor *self)
{
    self->self = self;
    descriptors_load(&self->descriptors);
    wrmsr(MSR_GS_BASE, (uint64_t)self);
}

void processor_init_boot(void)
{
    descriptors_init();
    enter(&boot_processor);
}
