/* SPDX-License-Identifier: BSD-2-Clause */
/* See ioapic.h. Register and bit names are the 82093AA data sheet's. */
#include "hv/dev/ioapic.h"

#define BIT32(n) (1u << (n))

/* In memory */
#define IOREGSEL 0x00u
#define IOWIN    0x10u
#define EOIR     0x40u

/* By index */
#define IOAPICID   0x00u
#define IOAPICVER  0x01u
#define IOAPICARB  0x02u
#define IOREDTBL   0x10u /* two for each pin, low half first */
#define INDEX_LAST (IOREDTBL + 2 * IOAPIC_PINS - 1)

#define VERSION  (0x20u | (IOAPIC_PINS - 1) << 16)
#define ID_SHIFT 24
#define ID_MASK  0x0fu

#define ENTRY_VECTOR(e)      ((uint8_t)(e))
#define ENTRY_DELIVERY(e)    ((unsigned)((e) >> 8 & 7))
#define ENTRY_LOGICAL        (1ull << 11)
#define ENTRY_STATUS         (1ull << 12) /* read only: nothing is ever under way */
#define ENTRY_REMOTE_IRR     (1ull << 14) /* read only: sent, and its EOI is yet to come */
#define ENTRY_LEVEL          (1ull << 15)
#define ENTRY_MASKED         (1ull << 16)
#define ENTRY_BITS           0xff0000000001afffull /* that can be written */
#define ENTRY_DESTINATION(e) ((uint32_t)((e) >> 56))
#define BROADCAST            0xffu
#define HALF_BITS            32

void ioapic_reset(struct ioapic *ioapic)
{
    ioapic->id = 0;
    ioapic->index = 0;
    ioapic->waiting = 0;
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        ioapic->entry[i] = ENTRY_MASKED;
}

void ioapic_init(struct ioapic *ioapic, bool (*send)(void *, const struct apic_message *),
                 void *context)
{
    *ioapic = (struct ioapic){.send = send, .context = context};
    ioapic_reset(ioapic);
}

/* --- sending ---------------------------------------------------------------------------------- */

static bool is_fixed(uint64_t entry)
{
    return ENTRY_DELIVERY(entry) == APIC_FIXED || ENTRY_DELIVERY(entry) == APIC_LOWEST;
}

/* All other delivery modes are edge-triggered whatever the entry says. */
static bool is_level_triggered(uint64_t entry)
{
    return (entry & ENTRY_LEVEL) && is_fixed(entry);
}

static struct apic_message message_of(uint64_t entry)
{
    uint32_t destination = ENTRY_DESTINATION(entry);

    return (struct apic_message){
        .destination = destination == BROADCAST ? APIC_BROADCAST : destination,
        .logical = (entry & ENTRY_LOGICAL) != 0,
        .level = is_level_triggered(entry),
        .delivery = (enum apic_delivery)ENTRY_DELIVERY(entry),
        .vector = ENTRY_VECTOR(entry),
    };
}

/* Delivery modes 3 and 6 are reserved; ExtINT is ioapic_extint's. */
static bool is_sent(uint64_t entry)
{
    switch (ENTRY_DELIVERY(entry)) {
    case APIC_FIXED:
    case APIC_LOWEST:
    case APIC_SMI:
    case APIC_NMI:
    case APIC_INIT:
        return true;
    default:
        return false;
    }
}

static bool send(struct ioapic *ioapic, uint64_t entry)
{
    const struct apic_message message = message_of(entry);

    return is_sent(entry) && ioapic->send(ioapic->context, &message);
}

/* Send a level-triggered interrupt that is asserted, unless one is yet to be ended. */
static void look_at_level(struct ioapic *ioapic, unsigned pin)
{
    uint64_t *entry = &ioapic->entry[pin];

    ioapic->waiting &= ~BIT32(pin);
    if (!is_level_triggered(*entry) || !(ioapic->level & BIT32(pin)) ||
        (*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
        return;
    if (send(ioapic, *entry))
        *entry |= ENTRY_REMOTE_IRR;
    else
        ioapic->waiting |= BIT32(pin);
}

/* An edge on a masked pin is lost (data sheet, 3.2.4, "Interrupt Mask"). */
void ioapic_set_pin(struct ioapic *ioapic, unsigned pin, bool level)
{
    uint64_t entry = ioapic->entry[pin];
    bool rises = level && !(ioapic->level & BIT32(pin));

    if (level)
        ioapic->level |= BIT32(pin);
    else
        ioapic->level &= ~BIT32(pin);
    if (is_level_triggered(entry))
        look_at_level(ioapic, pin);
    else if (rises && !(entry & ENTRY_MASKED))
        send(ioapic, entry);
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *entry = &ioapic->entry[pin];
        if (!(*entry & ENTRY_REMOTE_IRR) || ENTRY_VECTOR(*entry) != vector)
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        look_at_level(ioapic, pin);
    }
}

void ioapic_retry(struct ioapic *ioapic)
{
    uint32_t waiting = ioapic->waiting;

    for (unsigned pin = 0; waiting >> pin; pin++) {
        if (waiting >> pin & 1)
            look_at_level(ioapic, pin);
    }
}

bool ioapic_extint(const struct ioapic *ioapic, unsigned pin, struct apic_message *message)
{
    uint64_t entry = ioapic->entry[pin];

    if ((entry & ENTRY_MASKED) || ENTRY_DELIVERY(entry) != APIC_EXTINT)
        return false;
    *message = message_of(entry);
    return true;
}

/* --- registers -------------------------------------------------------------------------------- */

static uint32_t read_index(const struct ioapic *ioapic)
{
    unsigned index = ioapic->index;

    if (index == IOAPICVER)
        return VERSION;
    if (index == IOAPICID || index == IOAPICARB)
        return (uint32_t)ioapic->id << ID_SHIFT;
    if (index < IOREDTBL || index > INDEX_LAST)
        return 0;
    uint64_t entry = ioapic->entry[(index - IOREDTBL) / 2];
    return (uint32_t)(index % 2 ? entry >> HALF_BITS : entry);
}

/* Remote IRR is of level-triggered interrupts: an entry that was edge-triggered starts anew. */
static void write_entry(struct ioapic *ioapic, unsigned pin, bool high, uint32_t value)
{
    uint64_t old = ioapic->entry[pin];
    uint64_t entry =
        high ? (uint32_t)old | (uint64_t)value << HALF_BITS : old >> HALF_BITS << HALF_BITS | value;

    entry &= ENTRY_BITS;
    if (is_level_triggered(entry))
        entry |= old & ENTRY_REMOTE_IRR;
    ioapic->entry[pin] = entry;
    look_at_level(ioapic, pin);
}

static void write_index(struct ioapic *ioapic, uint32_t value)
{
    unsigned index = ioapic->index;

    if (index == IOAPICID)
        ioapic->id = value >> ID_SHIFT & ID_MASK;
    else if (index >= IOREDTBL && index <= INDEX_LAST)
        write_entry(ioapic, (index - IOREDTBL) / 2, index % 2 != 0, value);
}

uint64_t ioapic_read(const struct ioapic *ioapic, unsigned offset, unsigned bytes)
{
    uint32_t value = offset == IOREGSEL ? ioapic->index : offset == IOWIN ? read_index(ioapic) : 0;

    return bytes >= sizeof(value) ? value : value & (BIT32(8 * bytes) - 1);
}

void ioapic_write(struct ioapic *ioapic, unsigned offset, unsigned bytes, uint64_t value)
{
    if (offset == IOREGSEL)
        ioapic->index = (uint8_t)value;
    else if (offset == IOWIN && bytes == sizeof(uint32_t))
        write_index(ioapic, (uint32_t)value);
    else if (offset == EOIR && bytes == sizeof(uint32_t))
        ioapic_eoi(ioapic, (uint8_t)value);
}
