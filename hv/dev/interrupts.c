/* SPDX-License-Identifier: BSD-2-Clause */
/* See interrupts.h: the wires between the controllers, and the bus between the APICs. */
#include "hv/dev/interrupts.h"

#include <string.h>

#define GSI_TIMER   0u /* the interval timer's, at another pin of the I/O APIC */
#define GSI_CASCADE 2u
#define PIN_INTR    0u
#define PIN_TIMER   2u

/* --- the APICs' bus --------------------------------------------------------------------------- */

#define NOBODY VCPUS_MAX

static void notify(const struct interrupts *interrupts, unsigned cpu)
{
    interrupts->host->notify(interrupts->host->context, cpu);
}

/* Of those that `message` is for and that take interrupts, the one that does the least important;
 * among equals each in turn (SDM 3A 11.6.2.4). */
static bool deliver_lowest(struct interrupts *interrupts, const struct apic_message *message,
                           unsigned except)
{
    struct lapic *chosen = NULL;

    for (unsigned i = 0; i < interrupts->cpus; i++) {
        struct lapic *lapic = &interrupts->lapic[(interrupts->arbitration + i) % interrupts->cpus];
        if (lapic->id == except || !lapic_matches(lapic, message) || !lapic_accepts(lapic))
            continue;
        if (!chosen || lapic_priority(lapic) < lapic_priority(chosen))
            chosen = lapic;
    }
    if (!chosen)
        return false;
    interrupts->arbitration = (chosen->id + 1) % interrupts->cpus;
    return lapic_deliver(chosen, message);
}

/* True if any local APIC has accepted. */
static bool deliver(struct interrupts *interrupts, const struct apic_message *message,
                    unsigned except)
{
    bool accepted = false;

    if (message->delivery == APIC_LOWEST)
        return deliver_lowest(interrupts, message, except);
    for (unsigned i = 0; i < interrupts->cpus; i++) {
        struct lapic *lapic = &interrupts->lapic[i];
        if (i != except && lapic_matches(lapic, message) && lapic_deliver(lapic, message))
            accepted = true;
    }
    return accepted;
}

static uint64_t bus_now(void *context)
{
    const struct interrupts *interrupts = context;

    return interrupts->host->now(interrupts->host->context);
}

static void bus_notify(void *context, unsigned cpu)
{
    notify(context, cpu);
}

static void bus_send(void *context, unsigned from, enum apic_shorthand shorthand,
                     const struct apic_message *message)
{
    struct interrupts *interrupts = context;
    struct apic_message to_all = *message;

    to_all.destination = APIC_BROADCAST;
    switch (shorthand) {
    case APIC_SELF:
        lapic_deliver(&interrupts->lapic[from], message);
        return;
    case APIC_ALL:
        deliver(interrupts, &to_all, NOBODY);
        return;
    case APIC_OTHERS:
        deliver(interrupts, &to_all, from);
        return;
    case APIC_NO_SHORTHAND:
        deliver(interrupts, message, NOBODY);
        return;
    }
}

static void bus_eoi(void *context, uint8_t vector)
{
    struct interrupts *interrupts = context;

    ioapic_eoi(&interrupts->ioapic, vector);
}

static bool ioapic_send(void *context, const struct apic_message *message)
{
    return deliver(context, message, NOBODY);
}

/* --- wires ------------------------------------------------------------------------------------ */

/* Whether INTR of the i8259s gets to `cpu` as ExtINT. */
static bool extint_reaches(const struct interrupts *interrupts, unsigned cpu)
{
    const struct lapic *lapic = &interrupts->lapic[cpu];
    struct apic_message message;

    if (cpu == 0 && lapic_passes_extint(lapic))
        return true;
    return ioapic_extint(&interrupts->ioapic, PIN_INTR, &message) && lapic_matches(lapic, &message);
}

/* INTR of the i8259s has this level: LINT0 and pin 0 of the I/O APIC have it, too. */
static void set_intr(struct interrupts *interrupts, bool level)
{
    lapic_set_lint(&interrupts->lapic[0], 0, level);
    ioapic_set_pin(&interrupts->ioapic, PIN_INTR, level);
    if (!level)
        return;
    for (unsigned cpu = 0; cpu < interrupts->cpus; cpu++) {
        if (extint_reaches(interrupts, cpu))
            notify(interrupts, cpu);
    }
}

void interrupts_set_line(struct interrupts *interrupts, unsigned gsi, bool level)
{
    bool before = interrupts->pics.intr;

    if (gsi >= IOAPIC_PINS || gsi == GSI_CASCADE)
        return;
    if (gsi < PIC_LINES)
        pics_set_line(&interrupts->pics, gsi, level);
    if (interrupts->pics.intr != before)
        set_intr(interrupts, interrupts->pics.intr);
    ioapic_set_pin(&interrupts->ioapic, gsi == GSI_TIMER ? PIN_TIMER : gsi, level);
}

uint8_t interrupts_read_pics(struct interrupts *interrupts, uint16_t port)
{
    bool before = interrupts->pics.intr;
    uint8_t value = pics_read(&interrupts->pics, port); /* a poll takes a request */

    if (interrupts->pics.intr != before)
        set_intr(interrupts, interrupts->pics.intr);
    return value;
}

void interrupts_write_pics(struct interrupts *interrupts, uint16_t port, uint8_t value)
{
    bool before = interrupts->pics.intr;

    pics_write(&interrupts->pics, port, value);
    if (interrupts->pics.intr != before)
        set_intr(interrupts, interrupts->pics.intr);
}

/* --- what a processor asks -------------------------------------------------------------------- */

bool interrupts_extint_pending(const struct interrupts *interrupts, unsigned cpu)
{
    return interrupts->pics.intr && extint_reaches(interrupts, cpu);
}

int interrupts_pending(struct interrupts *interrupts, unsigned cpu)
{
    if (interrupts_extint_pending(interrupts, cpu))
        return pics_vector(&interrupts->pics);
    return lapic_pending(&interrupts->lapic[cpu]);
}

int interrupts_take(struct interrupts *interrupts, unsigned cpu)
{
    struct lapic *lapic = &interrupts->lapic[cpu];

    if (interrupts_extint_pending(interrupts, cpu)) {
        uint8_t vector = pics_acknowledge(&interrupts->pics);
        set_intr(interrupts, false); /* INTA ends it; the next request is another rise */
        if (interrupts->pics.intr)
            set_intr(interrupts, true);
        return vector;
    }
    return lapic_pending(lapic) == INTERRUPT_NONE ? INTERRUPT_NONE : lapic_take(lapic);
}

bool interrupts_take_nmi(struct interrupts *interrupts, unsigned cpu)
{
    bool pending = interrupts->lapic[cpu].nmi;

    interrupts->lapic[cpu].nmi = false;
    return pending;
}

enum apic_start interrupts_take_start(struct interrupts *interrupts, unsigned cpu, uint8_t *page)
{
    struct lapic *lapic = &interrupts->lapic[cpu];

    if (lapic->init) {
        lapic->init = false;
        lapic_reset_by_init(lapic);
        return APIC_START_INIT;
    }
    if (lapic->sipi) {
        lapic->sipi = false;
        *page = lapic->sipi_page;
        return APIC_START_SIPI;
    }
    return APIC_START_NONE;
}

uint64_t interrupts_next_event(const struct interrupts *interrupts, unsigned cpu)
{
    return lapic_next_event(&interrupts->lapic[cpu]);
}

void interrupts_tick(struct interrupts *interrupts, unsigned cpu)
{
    lapic_tick(&interrupts->lapic[cpu]);
}

uint8_t interrupts_tpr(const struct interrupts *interrupts, unsigned cpu)
{
    return lapic_tpr(&interrupts->lapic[cpu]);
}

void interrupts_set_tpr(struct interrupts *interrupts, unsigned cpu, uint8_t tpr)
{
    lapic_set_tpr(&interrupts->lapic[cpu], tpr);
}

/* --- registers -------------------------------------------------------------------------------- */

bool interrupts_has_msr(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST);
}

bool interrupts_read_msr(struct interrupts *interrupts, unsigned cpu, uint32_t msr, uint64_t *value)
{
    return lapic_read_msr(&interrupts->lapic[cpu], msr, value);
}

bool interrupts_write_msr(struct interrupts *interrupts, unsigned cpu, uint32_t msr, uint64_t value)
{
    bool written = lapic_write_msr(&interrupts->lapic[cpu], msr, value);

    ioapic_retry(&interrupts->ioapic); /* it may accept now what it did not before */
    return written;
}

/* Whether an access is to the registers of `lapic`; *offset is where. */
static bool is_lapic(const struct lapic *lapic, gpa_t at, unsigned bytes, unsigned *offset)
{
    uint64_t base = lapic_base(lapic);

    *offset = (unsigned)(at.v - base);
    return lapic->mode == LAPIC_XAPIC && at.v >= base && at.v - base <= LAPIC_SIZE - bytes;
}

bool interrupts_read_lapic(struct interrupts *interrupts, unsigned cpu, gpa_t at, unsigned bytes,
                           uint64_t *value)
{
    struct lapic *lapic = &interrupts->lapic[cpu];
    unsigned offset;

    if (!is_lapic(lapic, at, bytes, &offset))
        return false;
    *value = lapic_mmio_read(lapic, offset, bytes);
    return true;
}

bool interrupts_write_lapic(struct interrupts *interrupts, unsigned cpu, gpa_t at, unsigned bytes,
                            uint64_t value)
{
    struct lapic *lapic = &interrupts->lapic[cpu];
    unsigned offset;

    if (!is_lapic(lapic, at, bytes, &offset))
        return false;
    lapic_mmio_write(lapic, offset, bytes, value);
    ioapic_retry(&interrupts->ioapic); /* it may accept now what it did not before */
    return true;
}

void interrupts_page_written(struct interrupts *interrupts, unsigned cpu, unsigned offset)
{
    lapic_page_written(&interrupts->lapic[cpu], offset);
    ioapic_retry(&interrupts->ioapic); /* it may accept now what it did not before */
}

void interrupts_ended(struct interrupts *interrupts, unsigned cpu, uint8_t vector)
{
    lapic_ended(&interrupts->lapic[cpu], vector);
}

uint64_t interrupts_read_ioapic(const struct interrupts *interrupts, unsigned offset,
                                unsigned bytes)
{
    return ioapic_read(&interrupts->ioapic, offset, bytes);
}

void interrupts_write_ioapic(struct interrupts *interrupts, unsigned offset, unsigned bytes,
                             uint64_t value)
{
    ioapic_write(&interrupts->ioapic, offset, bytes, value);
    if (interrupts->pics.intr) /* pin 0 may lead somewhere else now */
        set_intr(interrupts, true);
}

/* --- resets ----------------------------------------------------------------------------------- */

void interrupts_reset(struct interrupts *interrupts)
{
    for (unsigned i = 0; i < interrupts->cpus; i++)
        lapic_reset(&interrupts->lapic[i]);
    lapic_enter_virtual_wire(&interrupts->lapic[0]);
    ioapic_reset(&interrupts->ioapic);
    pics_reset(&interrupts->pics);
    set_intr(interrupts, interrupts->pics.intr);
    interrupts->arbitration = 0;
}

void interrupts_init(struct interrupts *interrupts, const struct interrupts_config *config)
{
    memset(interrupts, 0, sizeof(*interrupts)); /* too big for a temporary on the stack */
    interrupts->host = config->host;
    interrupts->cpus = config->cpus;
    interrupts->bus = (struct apic_bus){
        .context = interrupts,
        .now = bus_now,
        .send = bus_send,
        .eoi = bus_eoi,
        .notify = bus_notify,
    };
    for (unsigned i = 0; i < config->cpus; i++)
        lapic_init(&interrupts->lapic[i], i, &config->pages[i], &interrupts->bus,
                   config->apic_ratio, config->physical_bits);
    ioapic_init(&interrupts->ioapic, ioapic_send, interrupts);
    interrupts_reset(interrupts);
}
