/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the checks of the virtual PC share. A check is a function that returns NULL, or why it
 * failed; it starts in the state of machine_quiet and may leave any state that machine_quiet ends.
 * The comment above it is its contract, with the manual's section. Manuals: SDM = Intel's Software
 * Developer's Manual; data sheets of 8259A, 8254, MC146818A, 82093AA, PC16550D; ACPI 6.4.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

#include "guest-tests/multiboot/machine32.h"

struct check {
    const char *name;
    const char *(*run)(void);
    bool slow; /* takes a second of the guest's time: left out by "quick" */
};

/* Each ends with a check without a name. */
extern const struct check apic_checks[], pic_checks[], pit_checks[], rtc_checks[], ioapic_checks[],
    uart_checks[], power_checks[], smp_checks[];

/* The processors that the MADT lists as enabled, the first one among them. */
extern unsigned cpu_count;

/* The machine is an emulator on a busy host: interrupts may come late, and ticks may be lost. */
extern bool is_busy;

#define EXPECT(condition, why)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return (why);                                                                          \
    } while (0)

/* The same, and both values are printed. */
#define EXPECT_EQ(got, want, why)                                                                  \
    do {                                                                                           \
        if (!expect_equal((got), (want)))                                                          \
            return (why);                                                                          \
    } while (0)

/* What a helper of a check found. */
#define EXPECT_OK(result)                                                                          \
    do {                                                                                           \
        const char *why_ = (result);                                                               \
        if (why_)                                                                                  \
            return why_;                                                                           \
    } while (0)

bool expect_equal(uint32_t got, uint32_t want);
/* For `return skip(why)`: the check cannot be made on this machine. */
const char *skip(const char *why);
/* QEMU's own emulation, whose local APIC leaves a few things out: CPUID says so. */
bool on_qemu_tcg(void);

/* The I/O APIC's pin for an ISA interrupt. */
unsigned ioapic_pin(uint8_t irq);

#endif
