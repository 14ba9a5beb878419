/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A local APIC (SDM 3A chapter 11) in xAPIC and x2APIC mode: version 0x14, six LVT entries, timer
 * with TSC deadline, suppression of EOI broadcasts.
 *
 *   - The APIC ID is the processor's index and cannot be changed; bits 31:24 hold it in xAPIC mode.
 *   - Local interrupts: the timer, LINT0, LINT1 and errors occur; the thermal sensor and the
 *     performance counters have LVT entries that nothing triggers.
 *   - SMIs and remote reads are accepted and do nothing.
 *   - The processor's interrupts are found by lapic_pending(): nothing is scanned there, unless the
 *     page is shared.
 *
 * TPR, ISR, TMR, IRR and ICR are kept in a page that is laid out as a processor's
 * virtual-APIC page (SDM 3C 30.1). lapic_share() lets the processor that runs the guest use it,
 * too:
 *
 *   - While its guest runs the processor may change these registers. Nobody else touches the page
 *     then: what interrupts come are noted beside it, until the processor settles (lapic_settle).
 *   - The other registers are the model's. Each change shows in the page, where the processor lets
 *     its guest read them; what the guest writes there comes by lapic_page_written.
 */
#ifndef HV_DEV_LAPIC_H
#define HV_DEV_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/dev/apic.h"

#define LAPIC_BASE 0xfee00000u /* after reset */
#define LAPIC_SIZE 0x1000u

#define LAPIC_VECTORS   256u
#define LAPIC_SET_WORDS (LAPIC_VECTORS / 32)

enum lapic_mode { LAPIC_DISABLED, LAPIC_XAPIC, LAPIC_X2APIC };

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVTS };

/* The registers in memory. */
struct lapic_page {
    struct {
        uint32_t value;
        uint32_t unused[3];
    } reg[256]; /* by enum apic_register */
};
_Static_assert(sizeof(struct lapic_page) == LAPIC_SIZE, "as the processor has it");
_Static_assert(sizeof(((struct lapic_page *)0)->reg[0]) == 1u << APIC_REGISTER_SHIFT, "likewise");

/* A bit for each vector. */
struct vector_set {
    uint32_t word[LAPIC_SET_WORDS];
};

struct lapic_timer {
    uint64_t due;      /* guest TSC when the count gets to 0; NO_EVENT: stopped */
    uint64_t rest;     /* guest TSC before which no further period ends in an interrupt */
    uint64_t deadline; /* IA32_TSC_DEADLINE */
    uint32_t initial;  /* initial-count register */
    uint32_t divide;   /* divide configuration register */
    uint64_t ratio;    /* TSC ticks to one of the APIC's clock, before the divider */
};

struct lapic {
    const struct apic_bus *bus;
    unsigned id;
    uint64_t physical_mask; /* bits that an address in IA32_APIC_BASE may have */
    uint64_t base;          /* IA32_APIC_BASE */
    enum lapic_mode mode;

    struct lapic_page *page;
    bool shared;                        /* the processor uses the page, too */
    bool changed;                       /* its processor was notified, and has not looked yet */
    bool view_stale;                    /* the page shows registers as they were */
    bool has_came;                      /* something is in: */
    struct vector_set came, came_level; /* requests that are not in IRR yet; those for TMR */

    uint32_t svr, dfr;
    uint32_t ldr;    /* xAPIC mode's; x2APIC mode derives it from the ID */
    uint32_t errors; /* seen since ESR was written last */
    uint32_t esr;
    uint32_t lvt[LVTS];
    bool lint[2]; /* levels of the pins */
    struct lapic_timer timer;

    /* What follows is told to the processor. */
    int deliverable; /* highest vector of IRR above PPR, or -1: kept up to date by each change */
    bool nmi, init, sipi;
    uint8_t sipi_page;
};

/*
 * Local APIC `id` on `bus`, as after power-on, with its registers in `page`; 0 is the bootstrap
 * processor's. `ratio`: TSC ticks to a tick of the timer before its divider, at least 1;
 * `physical_bits`: MAXPHYADDR.
 */
void lapic_init(struct lapic *lapic, unsigned id, struct lapic_page *page,
                const struct apic_bus *bus, unsigned ratio, unsigned physical_bits);

/* As after power-on (SDM 3A 11.4.7.1). The pins keep their levels. */
void lapic_reset(struct lapic *lapic);

/* What firmware leaves behind on the bootstrap processor: virtual wire mode (MultiProcessor
 * Specification 3.6.2.2). Software-enabled, LINT0 ExtINT, LINT1 NMI, both unmasked. */
void lapic_enter_virtual_wire(struct lapic *lapic);

/* The processor was sent INIT: as after reset but for IA32_APIC_BASE and what it is yet to be told
 * (SDM 3A 11.4.7.3). */
void lapic_reset_by_init(struct lapic *lapic);

/* Whether `message` is for this APIC, by physical or logical destination. */
bool lapic_matches(const struct lapic *lapic, const struct apic_message *message);

/* True when it takes fixed interrupts: globally and software-enabled. */
bool lapic_accepts(const struct lapic *lapic);

/* Priority for arbitration of lowest-priority delivery: PPR. */
uint8_t lapic_priority(const struct lapic *lapic);

/* Accept a message that lapic_matches(). False: it does not take such ones in its state. */
bool lapic_deliver(struct lapic *lapic, const struct apic_message *message);

/* A wire at LINT0 or LINT1 has a level. Does not lead to lapic_deliver's ExtINT: see
 * lapic_passes_extint. */
void lapic_set_lint(struct lapic *lapic, unsigned lint, bool level);

/* Whether INTR of the i8259s gets through to the processor: LINT0 is ExtINT and not masked, or the
 * APIC is globally disabled, so that the pin is INTR (SDM 3A 11.4.3). */
bool lapic_passes_extint(const struct lapic *lapic);

/* Where the registers are in xAPIC mode. Software may move them; RAM has precedence. */
static inline uint64_t lapic_base(const struct lapic *lapic)
{
    return lapic->base & lapic->physical_mask;
}

/* The vector that the processor would take now, or -1. */
int lapic_pending_shared(struct lapic *lapic);
static inline int lapic_pending(struct lapic *lapic)
{
    return lapic->shared ? lapic_pending_shared(lapic) : lapic->deliverable;
}

/* The processor takes lapic_pending(), which must not be -1: it goes from IRR to ISR. */
uint8_t lapic_take(struct lapic *lapic);

/* Registers at `offset` from the base in xAPIC mode; `bytes` is 1, 2, 4 or 8. */
uint64_t lapic_mmio_read(struct lapic *lapic, unsigned offset, unsigned bytes);
void lapic_mmio_write(struct lapic *lapic, unsigned offset, unsigned bytes, uint64_t value);

/* IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC's 0x800 to 0x8ff. False: #GP. */
bool lapic_read_msr(struct lapic *lapic, uint32_t msr, uint64_t *value);
bool lapic_write_msr(struct lapic *lapic, uint32_t msr, uint64_t value);

uint8_t lapic_tpr(const struct lapic *lapic);
void lapic_set_tpr(struct lapic *lapic, uint8_t tpr);

/* --- a page that the processor uses, too ------------------------------------------------------ */

/* From now on it does. What follows, and all accesses to registers, then are for the processor
 * itself, while its guest does not run. */
void lapic_share(struct lapic *lapic);

/* Bring page and model together, as they must be when the guest is entered. */
void lapic_settle(struct lapic *lapic);

/* Whether the processor was notified since this was asked last: without that IRR, ISR and TMR are
 * as the processor left them. */
static inline bool lapic_take_change(struct lapic *lapic)
{
    bool changed = lapic->changed;

    lapic->changed = false;
    return changed;
}

/* The highest vectors of IRR and of ISR, or 0: the guest interrupt status (SDM 3C 25.4.2). */
uint8_t lapic_requested(const struct lapic *lapic);
uint8_t lapic_in_service(const struct lapic *lapic);

/* TPR's class (bits 7:4) below which a request would be taken that TPR alone keeps waiting; 0 if
 * there is none (SDM 3C 25.6.8). */
uint8_t lapic_tpr_threshold(const struct lapic *lapic);

/* The processor wrote what its guest wrote to the register at `offset`, below LAPIC_SIZE, into the
 * page, and leaves the rest to the model (SDM 3C 30.4.3.3). */
void lapic_page_written(struct lapic *lapic, unsigned offset);

/* The processor has taken `vector` out of ISR at its guest's EOI, and tells of it: its interrupt
 * may be level-triggered (SDM 3C 30.1.4). */
void lapic_ended(struct lapic *lapic, uint8_t vector);

/* The timer: guest TSC of its next interrupt, or NO_EVENT; and do what is due. However late, one
 * interrupt comes of it, and the periods go on in their phase. */
uint64_t lapic_next_event(const struct lapic *lapic);
void lapic_tick(struct lapic *lapic);

#endif
