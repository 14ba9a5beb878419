/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Local APIC: how interrupts come, wait for their turn and end, and how they are sent to others.
 */
#include "hv/dev/lapic_internal.h"

#define PRIORITY_CLASS       0xf0u
#define PRIORITY_CLASS_SHIFT 4

#define LVT_DELIVERY(lvt) ((enum apic_delivery)((lvt) >> APIC_LVT_DELIVERY_SHIFT & 7))

/* Interrupt command register, SDM 3A 11.6.1 */
#define ICR_VECTOR         0xffu
#define ICR_DELIVERY(icr)  ((unsigned)((icr) >> APIC_ICR_DELIVERY_SHIFT & 7))
#define ICR_LOGICAL        BIT32(11)
#define ICR_LEVEL          BIT32(15)
#define ICR_SHORTHAND(icr) ((enum apic_shorthand)((icr) >> 18 & 3))
#define XAPIC_BROADCAST    0xffu

/* --- sets of vectors: eight registers from APIC_ISR, APIC_TMR or APIC_IRR ----------------------
 */

#define WORD(vector) ((unsigned)(vector) / 32)
#define MASK(vector) BIT32((vector) % 32)

static void set_add(struct lapic *lapic, enum apic_register set, uint8_t vector)
{
    lapic_set(lapic, set + WORD(vector), lapic_get(lapic, set + WORD(vector)) | MASK(vector));
}

static void set_remove(struct lapic *lapic, enum apic_register set, uint8_t vector)
{
    lapic_set(lapic, set + WORD(vector), lapic_get(lapic, set + WORD(vector)) & ~MASK(vector));
}

static bool set_has(const struct lapic *lapic, enum apic_register set, uint8_t vector)
{
    return (lapic_get(lapic, set + WORD(vector)) & MASK(vector)) != 0;
}

/* -1: empty. */
static int set_highest(const struct lapic *lapic, enum apic_register set)
{
    for (int i = LAPIC_SET_WORDS - 1; i >= 0; i--) {
        uint32_t word = lapic_get(lapic, set + (unsigned)i);
        if (word)
            return i * 32 + 31 - __builtin_clz(word);
    }
    return -1;
}

/* --- priorities (SDM 3A 11.8.3.1) ------------------------------------------------------------- */

static unsigned class_of(int vector)
{
    return vector < 0 ? 0 : (unsigned)vector & PRIORITY_CLASS;
}

uint8_t lapic_priority(const struct lapic *lapic)
{
    unsigned class = class_of(set_highest(lapic, APIC_ISR));
    uint8_t tpr = lapic_tpr(lapic);

    return (tpr & PRIORITY_CLASS) >= class ? tpr : (uint8_t) class;
}

static int find_deliverable(const struct lapic *lapic)
{
    int requested = set_highest(lapic, APIC_IRR);

    return class_of(requested) > (lapic_priority(lapic) & PRIORITY_CLASS) ? requested : -1;
}

/* After each change of IRR, ISR or TPR. What the processor keeps by itself must hear of each. */
static void update(struct lapic *lapic)
{
    int before = lapic->deliverable;

    lapic->deliverable = find_deliverable(lapic);
    if (lapic->shared || (lapic->deliverable >= 0 && lapic->deliverable != before))
        lapic_notify(lapic);
}

uint8_t lapic_tpr(const struct lapic *lapic)
{
    return (uint8_t)lapic_get(lapic, APIC_TPR);
}

void lapic_set_tpr(struct lapic *lapic, uint8_t tpr)
{
    lapic_set(lapic, APIC_TPR, tpr);
    update(lapic);
}

/* What is left in IRR is of no higher class. */
uint8_t lapic_take(struct lapic *lapic)
{
    uint8_t vector = (uint8_t)lapic->deliverable;

    set_remove(lapic, APIC_IRR, vector);
    set_add(lapic, APIC_ISR, vector);
    lapic->deliverable = -1;
    return vector;
}

int lapic_pending_shared(struct lapic *lapic)
{
    lapic_settle(lapic);
    lapic->deliverable = find_deliverable(lapic);
    return lapic->deliverable;
}

static uint8_t vector_or_0(int vector)
{
    return vector < 0 ? 0 : (uint8_t)vector;
}

uint8_t lapic_requested(const struct lapic *lapic)
{
    return vector_or_0(set_highest(lapic, APIC_IRR));
}

uint8_t lapic_in_service(const struct lapic *lapic)
{
    return vector_or_0(set_highest(lapic, APIC_ISR));
}

uint8_t lapic_tpr_threshold(const struct lapic *lapic)
{
    unsigned requested = class_of(set_highest(lapic, APIC_IRR));
    unsigned tpr = lapic_tpr(lapic) & PRIORITY_CLASS;

    if (requested <= class_of(set_highest(lapic, APIC_ISR)) || requested > tpr)
        return 0;
    return (uint8_t)(requested >> PRIORITY_CLASS_SHIFT);
}

void lapic_forget_interrupts(struct lapic *lapic)
{
    for (unsigned i = 0; i < LAPIC_SET_WORDS; i++) {
        lapic_set(lapic, APIC_ISR + i, 0);
        lapic_set(lapic, APIC_TMR + i, 0);
        lapic_set(lapic, APIC_IRR + i, 0);
        lapic->came.word[i] = 0;
    }
    lapic->has_came = false;
    lapic->changed = true;
    lapic->deliverable = -1;
}

/* --- accepting -------------------------------------------------------------------------------- */

/* The requests of one word of vectors, with those that are level-triggered. */
static void accept(struct lapic *lapic, unsigned word, uint32_t came, uint32_t level)
{
    lapic_set(lapic, APIC_IRR + word, lapic_get(lapic, APIC_IRR + word) | came);
    lapic_set(lapic, APIC_TMR + word, (lapic_get(lapic, APIC_TMR + word) & ~came) | (came & level));
}

void lapic_merge_requests(struct lapic *lapic)
{
    if (!lapic->has_came)
        return;
    lapic->has_came = false;
    for (unsigned i = 0; i < LAPIC_SET_WORDS; i++) {
        if (!lapic->came.word[i])
            continue;
        accept(lapic, i, lapic->came.word[i], lapic->came_level.word[i]);
        lapic->came.word[i] = 0;
    }
}

/* Requests come from all processors of the VM, and this one's may be using the page. */
static void note_request(struct lapic *lapic, uint8_t vector, bool level)
{
    uint32_t *of_level = &lapic->came_level.word[WORD(vector)];

    lapic->came.word[WORD(vector)] |= MASK(vector);
    *of_level = level ? *of_level | MASK(vector) : *of_level & ~MASK(vector);
    lapic->has_came = true;
    lapic_notify(lapic);
}

static void request(struct lapic *lapic, uint8_t vector, bool level)
{
    if (lapic->shared) {
        note_request(lapic, vector, level);
        return;
    }
    accept(lapic, WORD(vector), MASK(vector), level ? MASK(vector) : 0);
    update(lapic);
}

/* What the LVT's error entry leads to. An illegal vector in that entry is an error, too, but none
 * that would be told by it. */
void lapic_error(struct lapic *lapic, uint32_t bit)
{
    uint32_t lvt = lapic->lvt[LVT_ERROR];

    lapic->errors |= bit;
    if (lvt & APIC_LVT_MASKED)
        return;
    if ((lvt & LAPIC_LVT_VECTOR) < APIC_VECTOR_MIN)
        lapic->errors |= LAPIC_ESR_RECEIVE_ILLEGAL;
    else
        request(lapic, lvt & LAPIC_LVT_VECTOR, false);
}

static void accept_fixed(struct lapic *lapic, uint8_t vector, bool level)
{
    if (vector < APIC_VECTOR_MIN)
        lapic_error(lapic, LAPIC_ESR_RECEIVE_ILLEGAL);
    else
        request(lapic, vector, level);
}

static void accept_nmi(struct lapic *lapic)
{
    lapic->nmi = true;
    lapic_notify(lapic);
}

/* An INIT starts anew: a SIPI that came before it is forgotten. */
static void accept_init(struct lapic *lapic)
{
    lapic->init = true;
    lapic->sipi = false;
    lapic_notify(lapic);
}

static void accept_sipi(struct lapic *lapic, uint8_t page)
{
    lapic->sipi = true;
    lapic->sipi_page = page;
    lapic_notify(lapic);
}

bool lapic_accepts(const struct lapic *lapic)
{
    return lapic->mode != LAPIC_DISABLED && (lapic->svr & APIC_SVR_ENABLE);
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

uint32_t lapic_x2apic_ldr(const struct lapic *lapic)
{
    return lapic->id >> CLUSTER_SHIFT << X2APIC_CLUSTER_SHIFT |
           BIT32(lapic->id & X2APIC_MEMBER_OF_BITS);
}

static bool matches_x2apic(const struct lapic *lapic, uint32_t destination)
{
    uint32_t ldr = lapic_x2apic_ldr(lapic);

    return destination >> X2APIC_CLUSTER_SHIFT == ldr >> X2APIC_CLUSTER_SHIFT &&
           (destination & ldr & X2APIC_MEMBER_BITS);
}

static bool matches_xapic(const struct lapic *lapic, uint32_t destination)
{
    uint32_t logical_id = lapic->ldr >> APIC_ID_SHIFT;
    uint32_t cluster = destination >> CLUSTER_SHIFT;

    if (destination > XAPIC_BROADCAST)
        return false;
    if ((lapic->dfr & LAPIC_DFR_MODEL) == LAPIC_DFR_FLAT)
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

void lapic_local_interrupt(struct lapic *lapic, enum lapic_lvt which)
{
    uint32_t lvt = lapic->lvt[which];

    if (lvt & APIC_LVT_MASKED)
        return;
    switch (LVT_DELIVERY(lvt)) {
    case APIC_FIXED:
        accept_fixed(lapic, lvt & LAPIC_LVT_VECTOR, false);
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

    return lint == 0 && (lvt & LAPIC_LVT_LEVEL) && LVT_DELIVERY(lvt) == APIC_FIXED;
}

void lapic_look_at_level(struct lapic *lapic)
{
    uint32_t *lvt = &lapic->lvt[LVT_LINT0];

    if (!is_level_triggered(lapic, 0) || !lapic->lint[0] ||
        (*lvt & (APIC_LVT_MASKED | LAPIC_LVT_REMOTE_IRR)))
        return;
    if ((*lvt & LAPIC_LVT_VECTOR) >= APIC_VECTOR_MIN) {
        *lvt |= LAPIC_LVT_REMOTE_IRR;
        lapic->view_stale = true;
    }
    accept_fixed(lapic, *lvt & LAPIC_LVT_VECTOR, true);
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
        lapic_look_at_level(lapic);
    } else {
        lapic_local_interrupt(lapic, LVT_LINT0 + lint);
    }
}

bool lapic_passes_extint(const struct lapic *lapic)
{
    uint32_t lvt = lapic->lvt[LVT_LINT0];

    return lapic->mode == LAPIC_DISABLED ||
           (!(lvt & APIC_LVT_MASKED) && LVT_DELIVERY(lvt) == APIC_EXTINT);
}

void lapic_ended(struct lapic *lapic, uint8_t vector)
{
    uint32_t *lint0 = &lapic->lvt[LVT_LINT0];

    if (!set_has(lapic, APIC_TMR, vector))
        return;
    if ((*lint0 & LAPIC_LVT_REMOTE_IRR) && (*lint0 & LAPIC_LVT_VECTOR) == vector) {
        *lint0 &= ~LAPIC_LVT_REMOTE_IRR;
        lapic->view_stale = true;
        lapic_look_at_level(lapic);
        if (lapic->shared)
            lapic_settle(lapic);
    }
    if (!(lapic->svr & LAPIC_SVR_SUPPRESS))
        lapic->bus->eoi(lapic->bus->context, vector);
}

void lapic_end_of_interrupt(struct lapic *lapic)
{
    int vector = set_highest(lapic, APIC_ISR);

    if (vector < 0)
        return;
    set_remove(lapic, APIC_ISR, (uint8_t)vector);
    update(lapic);
    lapic_ended(lapic, (uint8_t)vector);
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
    uint32_t high = lapic_get(lapic, APIC_ICR_HIGH);
    uint32_t xapic = high >> APIC_ID_SHIFT;

    if (lapic->mode == LAPIC_X2APIC)
        return high;
    return xapic == XAPIC_BROADCAST ? APIC_BROADCAST : xapic;
}

void lapic_send(struct lapic *lapic)
{
    uint32_t icr = lapic_get(lapic, APIC_ICR);
    unsigned delivery = ICR_DELIVERY(icr);
    uint8_t vector = icr & ICR_VECTOR;
    bool has_vector = delivery == APIC_FIXED || delivery == APIC_LOWEST;

    if (!is_valid_combination(ICR_SHORTHAND(icr), delivery))
        return;
    if (delivery == APIC_INIT && (icr & ICR_LEVEL) && !(icr & APIC_ICR_ASSERT))
        return; /* de-assert: for processors before the Pentium 4 */
    if (has_vector && vector < APIC_VECTOR_MIN) {
        lapic_error(lapic, LAPIC_ESR_SEND_ILLEGAL);
        return;
    }
    lapic->bus->send(lapic->bus->context, lapic->id, ICR_SHORTHAND(icr),
                     &(struct apic_message){.destination = icr_destination(lapic),
                                            .logical = (icr & ICR_LOGICAL) != 0,
                                            .delivery = (enum apic_delivery)delivery,
                                            .vector = vector});
}

void lapic_send_to_self(struct lapic *lapic, uint8_t vector)
{
    if (vector < APIC_VECTOR_MIN)
        lapic_error(lapic, LAPIC_ESR_SEND_ILLEGAL);
    else if (lapic_accepts(lapic))
        request(lapic, vector, false);
}
