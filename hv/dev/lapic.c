/* SPDX-License-Identifier: BSD-2-Clause */
/* See lapic.h. */
#include "hv/dev/lapic.h"

#include <string.h>

#include "hv/dev/clock.h"

#define BIT32(n) (1u << (n))

/* Registers by their number: offset >> 4 in xAPIC mode, MSR - 0x800 in x2APIC mode (SDM 3A tables
 * 11-1 and 11-6). */
enum lapic_register {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09, /* not on processors since the Pentium 4: 0 */
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c, /* as APR */
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31, /* xAPIC mode */
    REG_LVT = 0x32,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f, /* x2APIC mode */
};

#define SET_REGISTERS  (LAPIC_VECTORS / 32) /* of each of ISR, TMR, IRR */
#define REGISTER_SHIFT 4u
#define REGISTER_BYTES 4u

/* An integrated APIC; highest LVT entry; EOI broadcasts can be suppressed. */
#define VERSION (0x14u | (LVTS - 1) << 16 | BIT32(24))

#define XAPIC_ID_SHIFT 24
#define PRIORITY_CLASS 0xf0u

#define SVR_VECTOR   0xffu
#define SVR_ENABLE   BIT32(8)
#define SVR_SUPPRESS BIT32(12) /* of EOI broadcasts */

#define LDR_BITS  0xff000000u
#define DFR_MODEL 0xf0000000u
#define DFR_FLAT  0xf0000000u
#define DFR_ONES  0x0fffffffu

#define LVT_VECTOR         0xffu
#define LVT_DELIVERY(lvt)  ((enum apic_delivery)((lvt) >> 8 & 7))
#define LVT_DELIVERY_SHIFT 8
#define LVT_STATUS         BIT32(12) /* read only: nothing is ever under way */
#define LVT_REMOTE_IRR     BIT32(14) /* read only */
#define LVT_LEVEL          BIT32(15)
#define LVT_MASKED         BIT32(16)
#define LVT_TIMER_SHIFT    17

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE, TIMER_RESERVED };

#define DIVIDE_BITS 0x0bu

/* Error status register, SDM 3A 11.5.3 */
#define ESR_SEND_ILLEGAL     BIT32(5)
#define ESR_RECEIVE_ILLEGAL  BIT32(6)
#define ESR_ILLEGAL_REGISTER BIT32(7)

/* Interrupt command register, SDM 3A 11.6.1 */
#define ICR_VECTOR             0xffu
#define ICR_DELIVERY(icr)      ((unsigned)((icr) >> 8 & 7))
#define ICR_LOGICAL            BIT32(11)
#define ICR_ASSERT             BIT32(14)
#define ICR_LEVEL              BIT32(15)
#define ICR_SHORTHAND(icr)     ((enum apic_shorthand)((icr) >> 18 & 3))
#define ICR_BITS               0x000ccfffu /* of the low half, all but the delivery status */
#define ICR_HIGH_BITS          0xff000000u /* xAPIC mode */
#define ICR_HIGH_SHIFT         32
#define ICR_XAPIC_DESTINATION  56
#define ICR_X2APIC_DESTINATION 32
#define XAPIC_BROADCAST        0xffu

/* IA32_APIC_BASE, SDM 3A 11.4.4 and 11.12.1 */
#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u
#define MSR_X2APIC_LAST  0x8ffu
#define BASE_BSP         (1ull << 8)
#define BASE_X2APIC      (1ull << 10)
#define BASE_ENABLE      (1ull << 11)
#define BASE_PAGE_SHIFT  12

/* Bits that software may set; what reads as something else is read only. */
static const uint32_t lvt_bits[LVTS] = {
    [LVT_TIMER] = 3u << LVT_TIMER_SHIFT | LVT_MASKED | LVT_VECTOR,
    [LVT_THERMAL] = LVT_MASKED | 7u << LVT_DELIVERY_SHIFT | LVT_VECTOR,
    [LVT_PERFORMANCE] = LVT_MASKED | 7u << LVT_DELIVERY_SHIFT | LVT_VECTOR,
    [LVT_LINT0] = LVT_MASKED | LVT_LEVEL | BIT32(13) | 7u << LVT_DELIVERY_SHIFT | LVT_VECTOR,
    [LVT_LINT1] = LVT_MASKED | LVT_LEVEL | BIT32(13) | 7u << LVT_DELIVERY_SHIFT | LVT_VECTOR,
    [LVT_ERROR] = LVT_MASKED | LVT_VECTOR,
};

static void notify(const struct lapic *lapic)
{
    lapic->bus->notify(lapic->bus->context, lapic->id);
}

static uint64_t now(const struct lapic *lapic)
{
    return lapic->bus->now(lapic->bus->context);
}

/* --- sets of vectors -------------------------------------------------------------------------- */

static void set_add(struct vector_set *set, uint8_t vector)
{
    set->word[vector / 32] |= BIT32(vector % 32);
}

static void set_remove(struct vector_set *set, uint8_t vector)
{
    set->word[vector / 32] &= ~BIT32(vector % 32);
}

static bool set_has(const struct vector_set *set, uint8_t vector)
{
    return (set->word[vector / 32] & BIT32(vector % 32)) != 0;
}

/* -1: empty. */
static int set_highest(const struct vector_set *set)
{
    for (int i = SET_REGISTERS - 1; i >= 0; i--) {
        if (set->word[i])
            return i * 32 + 31 - __builtin_clz(set->word[i]);
    }
    return -1;
}

/* --- priorities (SDM 3A 11.8.3.1) ------------------------------------------------------------- */

uint8_t lapic_priority(const struct lapic *lapic)
{
    int in_service = set_highest(&lapic->isr);
    unsigned class = in_service < 0 ? 0 : (unsigned)in_service & PRIORITY_CLASS;

    return (lapic->tpr & PRIORITY_CLASS) >= class ? lapic->tpr : (uint8_t) class;
}

/* After each change of IRR, ISR or TPR. */
static void update(struct lapic *lapic)
{
    int before = lapic->deliverable;
    int requested = set_highest(&lapic->irr);

    lapic->deliverable = -1;
    if (requested >= 0 &&
        ((unsigned)requested & PRIORITY_CLASS) > (lapic_priority(lapic) & PRIORITY_CLASS))
        lapic->deliverable = requested;
    if (lapic->deliverable >= 0 && lapic->deliverable != before)
        notify(lapic);
}

void lapic_set_tpr(struct lapic *lapic, uint8_t tpr)
{
    lapic->tpr = tpr;
    update(lapic);
}

uint8_t lapic_take(struct lapic *lapic)
{
    uint8_t vector = (uint8_t)lapic->deliverable;

    set_remove(&lapic->irr, vector);
    set_add(&lapic->isr, vector);
    update(lapic);
    return vector;
}

/* --- accepting -------------------------------------------------------------------------------- */

static void request(struct lapic *lapic, uint8_t vector, bool level)
{
    set_add(&lapic->irr, vector);
    if (level)
        set_add(&lapic->tmr, vector);
    else
        set_remove(&lapic->tmr, vector);
    update(lapic);
}

/* What the LVT's error entry leads to. An illegal vector in that entry is an error, too, but none
 * that would be told by it. */
static void error(struct lapic *lapic, uint32_t bit)
{
    uint32_t lvt = lapic->lvt[LVT_ERROR];

    lapic->errors |= bit;
    if (lvt & LVT_MASKED)
        return;
    if ((lvt & LVT_VECTOR) < APIC_VECTOR_MIN)
        lapic->errors |= ESR_RECEIVE_ILLEGAL;
    else
        request(lapic, lvt & LVT_VECTOR, false);
}

static void accept_fixed(struct lapic *lapic, uint8_t vector, bool level)
{
    if (vector < APIC_VECTOR_MIN)
        error(lapic, ESR_RECEIVE_ILLEGAL);
    else
        request(lapic, vector, level);
}

static void accept_nmi(struct lapic *lapic)
{
    lapic->nmi = true;
    notify(lapic);
}

/* An INIT starts anew: a SIPI that came before it is forgotten. */
static void accept_init(struct lapic *lapic)
{
    lapic->init = true;
    lapic->sipi = false;
    notify(lapic);
}

static void accept_sipi(struct lapic *lapic, uint8_t page)
{
    lapic->sipi = true;
    lapic->sipi_page = page;
    notify(lapic);
}

bool lapic_accepts(const struct lapic *lapic)
{
    return lapic->mode != LAPIC_DISABLED && (lapic->svr & SVR_ENABLE);
}

/* While it is disabled by software it still takes NMI, INIT, SIPI (SDM 3A 11.4.7.2). */
bool lapic_deliver(struct lapic *lapic, const struct apic_message *message)
{
    switch (message->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!lapic_accepts(lapic))
            return false;
        accept_fixed(lapic, message->vector, message->level);
        return true;
    case APIC_NMI:
        accept_nmi(lapic);
        return true;
    case APIC_INIT:
        accept_init(lapic);
        return true;
    case APIC_SIPI:
        accept_sipi(lapic, message->vector);
        return true;
    case APIC_SMI:
    case APIC_EXTINT:
        return true;
    }
    return false;
}

/* --- destinations (SDM 3A 11.6.2) ------------------------------------------------------------- */

#define CLUSTER_SHIFT         4 /* of an xAPIC's logical ID and of an x2APIC ID */
#define CLUSTER_MEMBERS       0x0fu
#define CLUSTER_ALL           0x0fu
#define X2APIC_CLUSTER_SHIFT  16
#define X2APIC_MEMBER_BITS    0xffffu
#define X2APIC_MEMBER_OF_BITS 0x0fu

/* Logical x2APIC ID: the cluster of 16, and a bit in it (SDM 3A 11.12.10.2). */
static uint32_t x2apic_ldr(const struct lapic *lapic)
{
    return lapic->id >> CLUSTER_SHIFT << X2APIC_CLUSTER_SHIFT |
           BIT32(lapic->id & X2APIC_MEMBER_OF_BITS);
}

static bool matches_x2apic(const struct lapic *lapic, uint32_t destination)
{
    uint32_t ldr = x2apic_ldr(lapic);

    return destination >> X2APIC_CLUSTER_SHIFT == ldr >> X2APIC_CLUSTER_SHIFT &&
           (destination & ldr & X2APIC_MEMBER_BITS);
}

static bool matches_xapic(const struct lapic *lapic, uint32_t destination)
{
    uint32_t logical_id = lapic->ldr >> XAPIC_ID_SHIFT;
    uint32_t cluster = destination >> CLUSTER_SHIFT;

    if (destination > XAPIC_BROADCAST)
        return false;
    if ((lapic->dfr & DFR_MODEL) == DFR_FLAT)
        return (destination & logical_id) != 0;
    return (cluster == CLUSTER_ALL || cluster == logical_id >> CLUSTER_SHIFT) &&
           (destination & logical_id & CLUSTER_MEMBERS);
}

bool lapic_matches(const struct lapic *lapic, const struct apic_message *message)
{
    if (lapic->mode == LAPIC_DISABLED)
        return false;
    if (message->destination == APIC_BROADCAST)
        return true;
    if (!message->logical)
        return message->destination == lapic->id;
    return lapic->mode == LAPIC_X2APIC ? matches_x2apic(lapic, message->destination)
                                       : matches_xapic(lapic, message->destination);
}

/* --- local interrupts ------------------------------------------------------------------------- */

static void local_interrupt(struct lapic *lapic, enum lapic_lvt which)
{
    uint32_t lvt = lapic->lvt[which];

    if (lvt & LVT_MASKED)
        return;
    switch (LVT_DELIVERY(lvt)) {
    case APIC_FIXED:
        accept_fixed(lapic, lvt & LVT_VECTOR, false);
        return;
    case APIC_NMI:
        accept_nmi(lapic);
        return;
    case APIC_INIT:
        accept_init(lapic);
        return;
    default: /* SMI; ExtINT is lapic_passes_extint's; the others are reserved */
        return;
    }
}

/* LINT1 is edge-triggered whatever its entry says, and so is all that is not fixed (SDM 3A
 * 11.5.1). */
static bool is_level_triggered(const struct lapic *lapic, unsigned lint)
{
    uint32_t lvt = lapic->lvt[LVT_LINT0 + lint];

    return lint == 0 && (lvt & LVT_LEVEL) && LVT_DELIVERY(lvt) == APIC_FIXED;
}

/* Send LINT0's level-triggered interrupt if it is asserted and the one before has had its EOI. */
static void look_at_level(struct lapic *lapic)
{
    uint32_t *lvt = &lapic->lvt[LVT_LINT0];

    if (!is_level_triggered(lapic, 0) || !lapic->lint[0] || (*lvt & (LVT_MASKED | LVT_REMOTE_IRR)))
        return;
    if ((*lvt & LVT_VECTOR) >= APIC_VECTOR_MIN)
        *lvt |= LVT_REMOTE_IRR;
    accept_fixed(lapic, *lvt & LVT_VECTOR, true);
}

void lapic_set_lint(struct lapic *lapic, unsigned lint, bool level)
{
    bool rises = level && !lapic->lint[lint];

    lapic->lint[lint] = level;
    if (!rises)
        return;
    if (lapic->mode == LAPIC_DISABLED) {
        if (lint == 1) /* the pin is NMI then */
            accept_nmi(lapic);
    } else if (is_level_triggered(lapic, lint)) {
        look_at_level(lapic);
    } else {
        local_interrupt(lapic, LVT_LINT0 + lint);
    }
}

bool lapic_passes_extint(const struct lapic *lapic)
{
    uint32_t lvt = lapic->lvt[LVT_LINT0];

    return lapic->mode == LAPIC_DISABLED ||
           (!(lvt & LVT_MASKED) && LVT_DELIVERY(lvt) == APIC_EXTINT);
}

static void end_of_interrupt(struct lapic *lapic)
{
    int vector = set_highest(&lapic->isr);
    uint32_t *lint0 = &lapic->lvt[LVT_LINT0];

    if (vector < 0)
        return;
    set_remove(&lapic->isr, (uint8_t)vector);
    update(lapic);
    if (!set_has(&lapic->tmr, (uint8_t)vector))
        return;
    if ((*lint0 & LVT_REMOTE_IRR) && (*lint0 & LVT_VECTOR) == (unsigned)vector) {
        *lint0 &= ~LVT_REMOTE_IRR;
        look_at_level(lapic);
    }
    if (!(lapic->svr & SVR_SUPPRESS))
        lapic->bus->eoi(lapic->bus->context, (uint8_t)vector);
}

/* --- the timer (SDM 3A 11.5.4) ---------------------------------------------------------------- */

static enum timer_mode timer_mode(uint32_t lvt)
{
    return (enum timer_mode)(lvt >> LVT_TIMER_SHIFT & 3);
}

/* TSC ticks to one count. Bits 3, 1, 0 of the divide configuration: 000 is 2, ... 110 is 128, 111
 * is 1. */
static uint64_t count_length(const struct lapic_timer *timer)
{
    unsigned code = (timer->divide & 3) | (timer->divide >> 1 & 4);

    return timer->ratio << ((code + 1) & 7);
}

static uint64_t after(uint64_t time, uint64_t ticks)
{
    return time > NO_EVENT - ticks ? NO_EVENT : time + ticks;
}

/* Counts are those of a counter that shows N for the first of its N counts' lengths. */
static uint32_t current_count(const struct lapic *lapic, uint64_t time)
{
    const struct lapic_timer *timer = &lapic->timer;
    uint64_t length = count_length(timer);

    if (timer->due == NO_EVENT || time >= timer->due ||
        timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_DEADLINE)
        return 0;
    return (uint32_t)((timer->due - time + length - 1) / length);
}

static void expire(struct lapic *lapic, uint64_t time)
{
    struct lapic_timer *timer = &lapic->timer;

    if (timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_PERIODIC) {
        uint64_t period = timer->initial * count_length(timer);
        timer->due = after(timer->due, ((time - timer->due) / period + 1) * period);
    } else {
        timer->due = NO_EVENT;
        timer->deadline = 0;
    }
    local_interrupt(lapic, LVT_TIMER);
}

void lapic_tick(struct lapic *lapic)
{
    if (lapic->timer.due == NO_EVENT)
        return;

    uint64_t time = now(lapic);
    if (time >= lapic->timer.due)
        expire(lapic, time);
}

/* Masked, it counts on, and nobody needs to be there when it gets to 0. */
uint64_t lapic_next_event(const struct lapic *lapic)
{
    return lapic->lvt[LVT_TIMER] & LVT_MASKED ? NO_EVENT : lapic->timer.due;
}

static void stop_timer(struct lapic_timer *timer)
{
    timer->due = NO_EVENT;
    timer->deadline = 0;
    timer->initial = 0;
}

/* Start from the initial count; 0 stops it. The deadline mode has no counts. */
static void write_initial_count(struct lapic *lapic, uint32_t value)
{
    struct lapic_timer *timer = &lapic->timer;

    if (timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_DEADLINE)
        return;
    lapic_tick(lapic);
    timer->initial = value;
    timer->due = value == 0 ? NO_EVENT : after(now(lapic), value * count_length(timer));
    notify(lapic);
}

/* The counts that are left get another length. */
static void write_divide(struct lapic *lapic, uint32_t value)
{
    struct lapic_timer *timer = &lapic->timer;
    uint64_t time = now(lapic);

    lapic_tick(lapic);
    uint32_t left = current_count(lapic, time);
    timer->divide = value & DIVIDE_BITS;
    if (left == 0)
        return;
    timer->due = after(time, left * count_length(timer));
    notify(lapic);
}

/* Between the deadline mode and the others the timer is disarmed. */
static void write_lvt_timer(struct lapic *lapic, uint32_t value)
{
    bool was_deadline = timer_mode(lapic->lvt[LVT_TIMER]) == TIMER_DEADLINE;

    lapic_tick(lapic);
    lapic->lvt[LVT_TIMER] = value;
    if ((timer_mode(value) == TIMER_DEADLINE) != was_deadline)
        stop_timer(&lapic->timer);
    notify(lapic);
}

static void write_deadline(struct lapic *lapic, uint64_t value)
{
    struct lapic_timer *timer = &lapic->timer;

    if (timer_mode(lapic->lvt[LVT_TIMER]) != TIMER_DEADLINE)
        return;
    timer->deadline = value;
    timer->due = value == 0 ? NO_EVENT : value;
    lapic_tick(lapic);
    notify(lapic);
}

/* --- interprocessor interrupts (SDM 3A 11.6) -------------------------------------------------- */

/* Table 11-3: to oneself, alone or among all, goes only what is fixed. */
static bool is_valid_combination(enum apic_shorthand shorthand, unsigned delivery)
{
    bool known = delivery <= APIC_SIPI && delivery != 3;

    return known &&
           (delivery == APIC_FIXED || shorthand == APIC_NO_SHORTHAND || shorthand == APIC_OTHERS);
}

static uint32_t icr_destination(const struct lapic *lapic)
{
    uint32_t xapic = (uint32_t)(lapic->icr >> ICR_XAPIC_DESTINATION);

    if (lapic->mode == LAPIC_X2APIC)
        return (uint32_t)(lapic->icr >> ICR_X2APIC_DESTINATION);
    return xapic == XAPIC_BROADCAST ? APIC_BROADCAST : xapic;
}

static void send(struct lapic *lapic)
{
    uint64_t icr = lapic->icr;
    unsigned delivery = ICR_DELIVERY(icr);
    uint8_t vector = icr & ICR_VECTOR;
    bool has_vector = delivery == APIC_FIXED || delivery == APIC_LOWEST;

    if (!is_valid_combination(ICR_SHORTHAND(icr), delivery))
        return;
    if (delivery == APIC_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
        return; /* de-assert: for processors before the Pentium 4 */
    if (has_vector && vector < APIC_VECTOR_MIN) {
        error(lapic, ESR_SEND_ILLEGAL);
        return;
    }
    lapic->bus->send(lapic->bus->context, lapic->id, ICR_SHORTHAND(icr),
                     &(struct apic_message){.destination = icr_destination(lapic),
                                            .logical = (icr & ICR_LOGICAL) != 0,
                                            .delivery = (enum apic_delivery)delivery,
                                            .vector = vector});
}

static void send_to_self(struct lapic *lapic, uint8_t vector)
{
    if (vector < APIC_VECTOR_MIN)
        error(lapic, ESR_SEND_ILLEGAL);
    else if (lapic_accepts(lapic))
        request(lapic, vector, false);
}

/* --- registers -------------------------------------------------------------------------------- */

static void write_svr(struct lapic *lapic, uint32_t value)
{
    lapic->svr = value & (SVR_VECTOR | SVR_ENABLE | SVR_SUPPRESS);
    if (value & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LVTS; i++)
        lapic->lvt[i] |= LVT_MASKED;
}

static void write_lvt(struct lapic *lapic, enum lapic_lvt which, uint32_t value)
{
    value &= lvt_bits[which];
    if (!(lapic->svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (which == LVT_TIMER) {
        write_lvt_timer(lapic, value);
        return;
    }
    if (value & LVT_LEVEL)
        value |= lapic->lvt[which] & LVT_REMOTE_IRR;
    lapic->lvt[which] = value;
    if (which == LVT_LINT0)
        look_at_level(lapic);
}

static void write_esr(struct lapic *lapic)
{
    lapic->esr = lapic->errors;
    lapic->errors = 0;
}

static uint32_t read_register(struct lapic *lapic, unsigned number)
{
    bool x2apic = lapic->mode == LAPIC_X2APIC;

    if (number >= REG_ISR && number < REG_ISR + SET_REGISTERS)
        return lapic->isr.word[number - REG_ISR];
    if (number >= REG_TMR && number < REG_TMR + SET_REGISTERS)
        return lapic->tmr.word[number - REG_TMR];
    if (number >= REG_IRR && number < REG_IRR + SET_REGISTERS)
        return lapic->irr.word[number - REG_IRR];
    if (number >= REG_LVT && number < REG_LVT + LVTS)
        return lapic->lvt[number - REG_LVT];
    switch (number) {
    case REG_ID:
        return x2apic ? lapic->id : lapic->id << XAPIC_ID_SHIFT;
    case REG_VERSION:
        return VERSION;
    case REG_TPR:
        return lapic->tpr;
    case REG_PPR:
        return lapic_priority(lapic);
    case REG_LDR:
        return x2apic ? x2apic_ldr(lapic) : lapic->ldr;
    case REG_DFR:
        return lapic->dfr;
    case REG_SVR:
        return lapic->svr;
    case REG_ESR:
        return lapic->esr;
    case REG_ICR:
        return (uint32_t)lapic->icr;
    case REG_ICR_HIGH:
        return (uint32_t)(lapic->icr >> ICR_HIGH_SHIFT);
    case REG_INITIAL:
        return lapic->timer.initial;
    case REG_CURRENT:
        lapic_tick(lapic);
        return current_count(lapic, now(lapic));
    case REG_DIVIDE:
        return lapic->timer.divide;
    default:
        return 0;
    }
}

/* What both modes have. */
static void write_register(struct lapic *lapic, unsigned number, uint32_t value)
{
    if (number >= REG_LVT && number < REG_LVT + LVTS) {
        write_lvt(lapic, number - REG_LVT, value);
        return;
    }
    switch (number) {
    case REG_TPR:
        lapic_set_tpr(lapic, (uint8_t)value);
        return;
    case REG_EOI:
        end_of_interrupt(lapic);
        return;
    case REG_SVR:
        write_svr(lapic, value);
        return;
    case REG_ESR:
        write_esr(lapic);
        return;
    case REG_INITIAL:
        write_initial_count(lapic, value);
        return;
    case REG_DIVIDE:
        write_divide(lapic, value);
        return;
    default: /* the others can only be read */
        return;
    }
}

/* --- xAPIC mode: memory ----------------------------------------------------------------------- */

static bool xapic_has(unsigned number)
{
    switch (number) {
    case REG_ID:
    case REG_VERSION:
    case REG_ICR:
    case REG_ICR_HIGH:
    case REG_INITIAL:
    case REG_CURRENT:
    case REG_DIVIDE:
        return true;
    default:
        return (number >= REG_TPR && number <= REG_ESR) ||
               (number >= REG_LVT && number < REG_LVT + LVTS);
    }
}

/* The registers are 32 bits at multiples of 16. Of smaller loads and of 64-bit ones processors make
 * what they like (SDM 3A 11.4.1): here parts of the register, and it with zeros. */
uint64_t lapic_mmio_read(struct lapic *lapic, unsigned offset, unsigned bytes)
{
    unsigned number = offset >> REGISTER_SHIFT;
    unsigned within = offset & ((1u << REGISTER_SHIFT) - 1);

    if (!xapic_has(number)) {
        error(lapic, ESR_ILLEGAL_REGISTER);
        return 0;
    }
    if (within >= REGISTER_BYTES)
        return 0;
    uint32_t value = read_register(lapic, number) >> 8 * within;
    return bytes >= REGISTER_BYTES ? value : value & (BIT32(8 * bytes) - 1);
}

void lapic_mmio_write(struct lapic *lapic, unsigned offset, unsigned bytes, uint64_t value)
{
    unsigned number = offset >> REGISTER_SHIFT;
    uint32_t low = (uint32_t)value;

    if (!xapic_has(number)) {
        error(lapic, ESR_ILLEGAL_REGISTER);
        return;
    }
    if (bytes != REGISTER_BYTES || number << REGISTER_SHIFT != offset)
        return;
    switch (number) {
    case REG_LDR:
        lapic->ldr = low & LDR_BITS;
        return;
    case REG_DFR:
        lapic->dfr = (low & DFR_MODEL) | DFR_ONES;
        return;
    case REG_ICR:
        lapic->icr = (lapic->icr >> ICR_HIGH_SHIFT << ICR_HIGH_SHIFT) | (low & ICR_BITS);
        send(lapic);
        return;
    case REG_ICR_HIGH:
        lapic->icr = (uint32_t)lapic->icr | (uint64_t)(low & ICR_HIGH_BITS) << ICR_HIGH_SHIFT;
        return;
    default:
        write_register(lapic, number, low);
        return;
    }
}

/* --- x2APIC mode: MSRs (SDM 3A 11.12.1.2) ----------------------------------------------------- */

static bool x2apic_can_read(unsigned number)
{
    switch (number) {
    case REG_ID:
    case REG_VERSION:
    case REG_TPR:
    case REG_PPR:
    case REG_LDR:
    case REG_SVR:
    case REG_ESR:
    case REG_ICR:
    case REG_INITIAL:
    case REG_CURRENT:
    case REG_DIVIDE:
        return true;
    default:
        return (number >= REG_ISR && number < REG_IRR + SET_REGISTERS) ||
               (number >= REG_LVT && number < REG_LVT + LVTS);
    }
}

/* False: not to be written. *bits: those that may be set. */
static bool x2apic_can_write(unsigned number, uint64_t *bits)
{
    if (number >= REG_LVT && number < REG_LVT + LVTS) {
        unsigned which = number - REG_LVT;
        bool is_lint = which == LVT_LINT0 || which == LVT_LINT1;
        *bits = lvt_bits[which] | LVT_STATUS | (is_lint ? LVT_REMOTE_IRR : 0);
        return true;
    }
    switch (number) {
    case REG_TPR:
    case REG_SELF_IPI:
        *bits = 0xff;
        return true;
    case REG_EOI:
    case REG_ESR:
        *bits = 0;
        return true;
    case REG_SVR:
        *bits = SVR_VECTOR | SVR_ENABLE | SVR_SUPPRESS;
        return true;
    case REG_ICR:
        *bits = 0xffffffffull << ICR_HIGH_SHIFT | ICR_BITS;
        return true;
    case REG_INITIAL:
        *bits = 0xffffffff;
        return true;
    case REG_DIVIDE:
        *bits = DIVIDE_BITS;
        return true;
    default:
        return false;
    }
}

static bool x2apic_read(struct lapic *lapic, unsigned number, uint64_t *value)
{
    if (lapic->mode != LAPIC_X2APIC || !x2apic_can_read(number))
        return false;
    *value = number == REG_ICR ? lapic->icr : read_register(lapic, number);
    return true;
}

static bool x2apic_write(struct lapic *lapic, unsigned number, uint64_t value)
{
    uint64_t bits;

    if (lapic->mode != LAPIC_X2APIC || !x2apic_can_write(number, &bits) || (value & ~bits))
        return false;
    if (number == REG_ICR) {
        lapic->icr = value;
        send(lapic);
    } else if (number == REG_SELF_IPI) {
        send_to_self(lapic, (uint8_t)value);
    } else {
        write_register(lapic, number, (uint32_t)value);
    }
    return true;
}

/* --- modes and resets ------------------------------------------------------------------------- */

/* Registers but for IA32_APIC_BASE (SDM 3A 11.4.7.1). */
static void reset_registers(struct lapic *lapic)
{
    memset(&lapic->irr, 0, sizeof(lapic->irr));
    memset(&lapic->isr, 0, sizeof(lapic->isr));
    memset(&lapic->tmr, 0, sizeof(lapic->tmr));
    lapic->tpr = 0;
    lapic->svr = SVR_VECTOR;
    lapic->dfr = DFR_FLAT | DFR_ONES;
    lapic->ldr = 0;
    lapic->errors = 0;
    lapic->esr = 0;
    lapic->icr = 0;
    for (unsigned i = 0; i < LVTS; i++)
        lapic->lvt[i] = LVT_MASKED;
    stop_timer(&lapic->timer);
    lapic->timer.divide = 0;
    lapic->deliverable = -1;
}

void lapic_reset(struct lapic *lapic)
{
    lapic->base = LAPIC_BASE | BASE_ENABLE | (lapic->id == 0 ? BASE_BSP : 0);
    lapic->mode = LAPIC_XAPIC;
    lapic->nmi = false;
    lapic->init = false;
    lapic->sipi = false;
    reset_registers(lapic);
}

void lapic_init(struct lapic *lapic, unsigned id, const struct apic_bus *bus, unsigned ratio,
                unsigned physical_bits)
{
    uint64_t physical = physical_bits >= 64 ? ~0ull : (1ull << physical_bits) - 1;

    *lapic = (struct lapic){
        .bus = bus,
        .id = id,
        .physical_mask = physical >> BASE_PAGE_SHIFT << BASE_PAGE_SHIFT,
        .timer = {.ratio = ratio},
    };
    lapic_reset(lapic);
}

void lapic_enter_virtual_wire(struct lapic *lapic)
{
    lapic->svr |= SVR_ENABLE;
    lapic->lvt[LVT_LINT0] = (uint32_t)APIC_EXTINT << LVT_DELIVERY_SHIFT;
    lapic->lvt[LVT_LINT1] = (uint32_t)APIC_NMI << LVT_DELIVERY_SHIFT;
}

void lapic_reset_by_init(struct lapic *lapic)
{
    reset_registers(lapic);
    lapic->nmi = false;
}

static enum lapic_mode mode_of(uint64_t base)
{
    if (!(base & BASE_ENABLE))
        return LAPIC_DISABLED;
    return base & BASE_X2APIC ? LAPIC_X2APIC : LAPIC_XAPIC;
}

/* SDM 3A figure 11-27: x2APIC mode is entered from xAPIC mode only, and left only by disabling. */
static bool is_legal_transition(enum lapic_mode from, uint64_t base)
{
    enum lapic_mode to = mode_of(base);

    if (to == LAPIC_DISABLED)
        return !(base & BASE_X2APIC);
    return to == from || (to == LAPIC_XAPIC && from == LAPIC_DISABLED) ||
           (to == LAPIC_X2APIC && from == LAPIC_XAPIC);
}

static bool write_base(struct lapic *lapic, uint64_t value)
{
    enum lapic_mode from = lapic->mode;

    if (value & ~(lapic->physical_mask | BASE_BSP | BASE_X2APIC | BASE_ENABLE))
        return false;
    if (!is_legal_transition(from, value))
        return false;
    lapic->base = value;
    lapic->mode = mode_of(value);
    if (lapic->mode == LAPIC_DISABLED)
        reset_registers(lapic);
    if (lapic->mode == LAPIC_X2APIC && from == LAPIC_XAPIC)
        lapic->icr = (uint32_t)lapic->icr; /* SDM 3A 11.12.5.1: the destination is 0 */
    notify(lapic);
    return true;
}

bool lapic_read_msr(struct lapic *lapic, uint32_t msr, uint64_t *value)
{
    if (msr == MSR_APIC_BASE) {
        *value = lapic->base;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) {
        lapic_tick(lapic);
        *value = lapic->timer.deadline;
        return true;
    }
    return msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST &&
           x2apic_read(lapic, msr - MSR_X2APIC, value);
}

bool lapic_write_msr(struct lapic *lapic, uint32_t msr, uint64_t value)
{
    if (msr == MSR_APIC_BASE)
        return write_base(lapic, value);
    if (msr == MSR_TSC_DEADLINE) {
        write_deadline(lapic, value);
        return true;
    }
    return msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST &&
           x2apic_write(lapic, msr - MSR_X2APIC, value);
}
