/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interrupt controllers of a VM, as a PC has them: a local APIC for each processor, one I/O
 * APIC, two i8259s.
 *
 *     device -- GSI n --+-- i8259 IRQ n (n < 16) -- INTR --+-- LINT0 of processor 0 (ExtINT)
 *                       |                                  +-- I/O APIC pin 0
 *                       +-- I/O APIC pin n (GSI 0: pin 2)
 *
 * After a reset the bootstrap processor is in virtual wire mode, as firmware leaves it: its local
 * APIC is enabled, LINT0 is ExtINT, LINT1 is NMI (nothing is wired to LINT1). All else is as after
 * power-on.
 *
 * A processor asks interrupts_pending() before it enters its guest, and interrupts_tick() when its
 * interrupts_next_event() has come.
 */
#ifndef HV_DEV_INTERRUPTS_H
#define HV_DEV_INTERRUPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/dev/host.h"
#include "hv/dev/ioapic.h"
#include "hv/dev/lapic.h"
#include "hv/dev/pic.h"
#include "hv/settings.h"

enum { INTERRUPT_NONE = -1 };

enum apic_start { APIC_START_NONE, APIC_START_INIT, APIC_START_SIPI };

struct interrupts_config {
    unsigned cpus;            /* 1 to VCPUS_MAX */
    struct lapic_page *pages; /* one each: the local APICs' registers */
    unsigned apic_ratio;      /* TSC ticks to one of the local APICs' clock; at least 1 */
    unsigned physical_bits;   /* MAXPHYADDR */
    const struct devices_host *host;
};

struct interrupts {
    const struct devices_host *host;
    unsigned cpus;
    unsigned arbitration; /* the processor that lowest-priority delivery looks at first */
    struct apic_bus bus;
    struct lapic lapic[VCPUS_MAX];
    struct ioapic ioapic;
    struct pics pics;
};

/* `interrupts` must stay where it is: its parts point at it. */
void interrupts_init(struct interrupts *interrupts, const struct interrupts_config *config);

/* As after power-on and firmware. Wires keep their levels: who resets their devices lowers them. */
void interrupts_reset(struct interrupts *interrupts);

/* A device's wire has a level. `gsi`: below 16 the ISA IRQ, of which 2 does not exist; below
 * IOAPIC_PINS the I/O APIC's pin. Others lead nowhere. */
void interrupts_set_line(struct interrupts *interrupts, unsigned gsi, bool level);

/*
 * The vector that processor `cpu` would take now if its RFLAGS.IF were set: the i8259s' if their
 * INTR gets to it, else the highest of its local APIC above its priority; INTERRUPT_NONE.
 */
int interrupts_pending(struct interrupts *interrupts, unsigned cpu);

/* Whether that is the i8259s': it comes by an INTA cycle, and not through the local APIC. */
bool interrupts_extint_pending(const struct interrupts *interrupts, unsigned cpu);

/* The processor takes it: IRR to ISR, or an INTA cycle. INTERRUPT_NONE if there is none. */
int interrupts_take(struct interrupts *interrupts, unsigned cpu);

/* True once for each NMI that came; those that come before it was taken are one. */
bool interrupts_take_nmi(struct interrupts *interrupts, unsigned cpu);

/*
 * INIT or SIPI that came for `cpu`, one at a time in this order; the local APIC has been reset when
 * INIT is returned. SIPI: execution starts at *page << 12. A processor that does not wait for SIPI
 * forgets it.
 */
enum apic_start interrupts_take_start(struct interrupts *interrupts, unsigned cpu, uint8_t *page);

/* Guest TSC at which the timer of `cpu` interrupts, or NO_EVENT; and do what is due. */
uint64_t interrupts_next_event(const struct interrupts *interrupts, unsigned cpu);
void interrupts_tick(struct interrupts *interrupts, unsigned cpu);

/* The task-priority register: bits 7:4 are CR8. */
uint8_t interrupts_tpr(const struct interrupts *interrupts, unsigned cpu);
void interrupts_set_tpr(struct interrupts *interrupts, unsigned cpu, uint8_t tpr);

/* IA32_APIC_BASE (0x1b), IA32_TSC_DEADLINE (0x6e0), x2APIC's 0x800 to 0x8ff: whether `msr` is one
 * of them; access to them, false: #GP. The deadline is compared with now() of struct devices_host:
 * the caller takes a processor's own TSC offset out of it and puts it in again. */
bool interrupts_has_msr(uint32_t msr);
bool interrupts_read_msr(struct interrupts *interrupts, unsigned cpu, uint32_t msr,
                         uint64_t *value);
bool interrupts_write_msr(struct interrupts *interrupts, unsigned cpu, uint32_t msr,
                          uint64_t value);

/* The local APIC of `cpu`, whose page the processor uses: see lapic.h. Its processor wrote to the
 * page, or ended an interrupt. */
void interrupts_page_written(struct interrupts *interrupts, unsigned cpu, unsigned offset);
void interrupts_ended(struct interrupts *interrupts, unsigned cpu, uint8_t vector);

/* The i8259s' ports: 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1. */
uint8_t interrupts_read_pics(struct interrupts *interrupts, uint16_t port);
void interrupts_write_pics(struct interrupts *interrupts, uint16_t port, uint8_t value);

/* A memory access of `cpu` at `at` to its local APIC. False: it is not there. */
bool interrupts_read_lapic(struct interrupts *interrupts, unsigned cpu, gpa_t at, unsigned bytes,
                           uint64_t *value);
bool interrupts_write_lapic(struct interrupts *interrupts, unsigned cpu, gpa_t at, unsigned bytes,
                            uint64_t value);

/* A memory access at `offset` from IOAPIC_BASE. */
uint64_t interrupts_read_ioapic(const struct interrupts *interrupts, unsigned offset,
                                unsigned bytes);
void interrupts_write_ioapic(struct interrupts *interrupts, unsigned offset, unsigned bytes,
                             uint64_t value);

#endif
