/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's processors: what each has of its own, and starting them. The boot processor has
 * index 0. What the portable parts call (processor_index, processor_kick, processor_idle, ...) is
 * declared in hv/arch.h.
 */
#ifndef ARCH_PROCESSOR_H
#define ARCH_PROCESSOR_H

#define PROCESSOR_GUARDS 0x10 /* struct processor, guards: vmentry.S looks at it by GS */

#ifdef __ASSEMBLER__
#include "arch/x86_64/descriptors.h" /* the selectors */
#else
#include "arch/x86_64/descriptors.h"
#include "hv/arch.h"
#include "hv/settings.h"
#include "hv/types.h"

#define PROCESSORS_ALL       0u /* as a limit */
#define PANIC_TEXT_MAX       256
#define SHADOW_TABLE_ENTRIES 8 /* SDM 1 17.2.6 */

struct vcpu;
struct vm;
struct trap_expected;
struct acpi_info;

/* Only the processor itself writes it, but where a field says otherwise. */
struct processor {
    struct processor *self; /* first: GS base points here */
    unsigned index;
    uint32_t apic_id;
    uint32_t guards;             /* against speculation, GUARD_* */
    const struct vm *guarded_vm; /* that ran here last; for IBPB. Never followed */
    struct vcpu *current; /* the virtual processor that it runs; NULL: none. The scheduler's */
    struct descriptors descriptors;
    struct trap_expected *expected; /* by a self test; NULL: an exception is a panic (trap.h) */
    uint64_t stack; /* its top; 0 for the boot processor, which is at home on another */
    /* Supervisor shadow stacks (cet.c): the token of its own, and those of the interrupt stacks by
     * their slots; 0: none */
    uint64_t shadow_token;
    uint64_t shadow_table[SHADOW_TABLE_ENTRIES];
    /* VMX operation (vmx.c) */
    bool in_vmx;
    uint32_t *vmxon_region; /* NULL before the first VMXON */
    /* When another one panics, or this one too while it does (panic.c): read by that one once
     * `stopped` is set. */
    bool stopped;
    uint64_t stopped_rip, stopped_rbp;
    char panic_text[PANIC_TEXT_MAX]; /* "" if it was stopped by an NMI */
};

_Static_assert(offsetof(struct processor, guards) == PROCESSOR_GUARDS, "vmentry.S has this offset");

/*
 * The processor that asks. Nothing ever moves from one processor to another in the middle of a
 * function, so the compiler may keep the answer.
 */
static inline struct processor *this_processor(void)
{
    struct processor *self;

    __asm__("movq %%gs:0, %0" : "=r"(self));
    return self;
}

/* The processor with that index, below processor_count(). */
struct processor *processor_at(unsigned index);

/* Load the descriptor tables and GS base of the boot processor: this_processor() is valid from here
 * on. */
void processor_init_boot(void);

/* The same on the processor that starts as `self`. */
void processor_enter(struct processor *self);

/* Count a processor that has started in: its index is processor_count(). */
void processor_add(struct processor *p);

/*
 * smp.c: bring up the processors that `acpi` lists as enabled, up to `limit` with the boot
 * processor (PROCESSORS_ALL: all), into the state of the boot processor: its tables and control
 * registers, its APIC's mode, VMX operation if it is in it. When all are there, each calls main()
 * on its own stack, never to return; the boot processor comes back. One that does not start, or
 * differs, is left out with a line that says so.
 */
void processors_start(const struct acpi_info *acpi, unsigned limit, void (*main)(void));

#endif

#endif
