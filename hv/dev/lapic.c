/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APIC: registers as software reads and writes them, in memory and as MSRs, modes and resets.
 * See lapic.h. */
#include "hv/dev/lapic.h"

#include "hv/dev/lapic_internal.h"

#define REGISTER_BYTES 4u

/* An integrated APIC; highest LVT entry; EOI broadcasts can be suppressed. */
#define VERSION (0x14u | (LVTS - 1) << 16 | BIT32(24))

#define SVR_VECTOR 0xffu

#define LDR_BITS 0xff000000u
#define DFR_ONES 0x0fffffffu

#define LVT_STATUS BIT32(12) /* read only: nothing is ever under way */

#define ICR_BITS      0x000ccfffu /* of the low half, all but the delivery status */
#define ICR_HIGH_BITS 0xff000000u /* xAPIC mode */

#define BASE_PAGE_SHIFT 12

/* Bits that software may set; what reads as something else is read only. */
static const uint32_t lvt_bits[LVTS] = {
    [LVT_TIMER] = 3u << APIC_LVT_MODE_SHIFT | APIC_LVT_MASKED | LAPIC_LVT_VECTOR,
    [LVT_THERMAL] = APIC_LVT_MASKED | 7u << APIC_LVT_DELIVERY_SHIFT | LAPIC_LVT_VECTOR,
    [LVT_PERFORMANCE] = APIC_LVT_MASKED | 7u << APIC_LVT_DELIVERY_SHIFT | LAPIC_LVT_VECTOR,
    [LVT_LINT0] = APIC_LVT_MASKED | LAPIC_LVT_LEVEL | BIT32(13) | 7u << APIC_LVT_DELIVERY_SHIFT |
                  LAPIC_LVT_VECTOR,
    [LVT_LINT1] = APIC_LVT_MASKED | LAPIC_LVT_LEVEL | BIT32(13) | 7u << APIC_LVT_DELIVERY_SHIFT |
                  LAPIC_LVT_VECTOR,
    [LVT_ERROR] = APIC_LVT_MASKED | LAPIC_LVT_VECTOR,
};

/* --- registers -------------------------------------------------------------------------------- */

static void write_svr(struct lapic *lapic, uint32_t value)
{
    lapic->svr = value & (SVR_VECTOR | APIC_SVR_ENABLE | LAPIC_SVR_SUPPRESS);
    if (lapic->shared) /* self-IPIs by the processor are accepted by no software-disabled APIC */
        lapic_notify(lapic);
    if (value & APIC_SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LVTS; i++)
        lapic->lvt[i] |= APIC_LVT_MASKED;
    lapic->view_stale = true;
}

static void write_lvt(struct lapic *lapic, enum lapic_lvt which, uint32_t value)
{
    value &= lvt_bits[which];
    if (!(lapic->svr & APIC_SVR_ENABLE))
        value |= APIC_LVT_MASKED;
    if (which == LVT_TIMER) {
        lapic_timer_write_lvt(lapic, value);
        lapic->view_stale = true; /* the initial count may be another, too */
        return;
    }
    if (value & LAPIC_LVT_LEVEL)
        value |= lapic->lvt[which] & LAPIC_LVT_REMOTE_IRR;
    lapic->lvt[which] = value;
    if (which == LVT_LINT0)
        lapic_look_at_level(lapic);
}

static void write_esr(struct lapic *lapic)
{
    lapic->esr = lapic->errors;
    lapic->errors = 0;
}

static uint32_t read_register(struct lapic *lapic, unsigned number)
{
    bool x2apic = lapic->mode == LAPIC_X2APIC;

    if (number >= APIC_ISR && number < APIC_IRR + LAPIC_SET_WORDS) {
        lapic_merge_requests(lapic);
        return lapic_get(lapic, number);
    }
    if (number >= APIC_LVT_TIMER && number < APIC_LVT_TIMER + LVTS)
        return lapic->lvt[number - APIC_LVT_TIMER];
    switch (number) {
    case APIC_ID:
        return x2apic ? lapic->id : lapic->id << APIC_ID_SHIFT;
    case APIC_VERSION:
        return VERSION;
    case APIC_TPR:
        return lapic_tpr(lapic);
    case APIC_PPR:
        return lapic_priority(lapic);
    case APIC_LDR:
        return x2apic ? lapic_x2apic_ldr(lapic) : lapic->ldr;
    case APIC_DFR:
        return lapic->dfr;
    case APIC_SVR:
        return lapic->svr;
    case APIC_ESR:
        return lapic->esr;
    case APIC_ICR:
    case APIC_ICR_HIGH:
        return lapic_get(lapic, number);
    case APIC_TIMER_INITIAL:
        return lapic->timer.initial;
    case APIC_TIMER_CURRENT:
        lapic_tick(lapic);
        return lapic_timer_count(lapic, lapic_now(lapic));
    case APIC_TIMER_DIVIDE:
        return lapic->timer.divide;
    default:
        return 0;
    }
}

/* --- what a shared page shows ----------------------------------------------------------------- */

/* Those that the processor lets its guest read, and that it does not keep itself (SDM 3C 30.4.2,
 * 30.5). */
static bool is_shown(unsigned number)
{
    if (number >= APIC_LVT_TIMER && number < APIC_LVT_TIMER + LVTS)
        return true;
    switch (number) {
    case APIC_ID:
    case APIC_VERSION:
    case APIC_LDR:
    case APIC_DFR:
    case APIC_SVR:
    case APIC_ESR:
    case APIC_TIMER_INITIAL:
    case APIC_TIMER_DIVIDE:
        return true;
    default:
        return false;
    }
}

static void show(struct lapic *lapic, unsigned number)
{
    if (is_shown(number))
        lapic_set(lapic, number, read_register(lapic, number));
}

static void show_all(struct lapic *lapic)
{
    for (unsigned number = APIC_ID; number <= APIC_TIMER_DIVIDE; number++)
        show(lapic, number);
    lapic->view_stale = false;
}

void lapic_settle(struct lapic *lapic)
{
    lapic_merge_requests(lapic);
    if (lapic->view_stale)
        show_all(lapic);
}

void lapic_share(struct lapic *lapic)
{
    lapic->shared = true;
    lapic->changed = true;
    show_all(lapic);
}

/* A write may have become something else, or nothing. */
static void show_written(struct lapic *lapic, unsigned number)
{
    if (!lapic->shared)
        return;
    if (lapic->view_stale)
        show_all(lapic);
    else
        show(lapic, number);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* What both modes have. */
static void write_register(struct lapic *lapic, unsigned number, uint32_t value)
{
    if (number >= APIC_LVT_TIMER && number < APIC_LVT_TIMER + LVTS) {
        write_lvt(lapic, number - APIC_LVT_TIMER, value);
        return;
    }
    switch (number) {
    case APIC_TPR:
        lapic_set_tpr(lapic, (uint8_t)value);
        return;
    case APIC_EOI:
        lapic_end_of_interrupt(lapic);
        return;
    case APIC_SVR:
        write_svr(lapic, value);
        return;
    case APIC_ESR:
        write_esr(lapic);
        return;
    case APIC_TIMER_INITIAL:
        lapic_timer_write_initial(lapic, value);
        return;
    case APIC_TIMER_DIVIDE:
        lapic_timer_write_divide(lapic, value);
        return;
    default: /* the others can only be read */
        return;
    }
}

/* --- xAPIC mode: memory ----------------------------------------------------------------------- */

static bool xapic_has(unsigned number)
{
    switch (number) {
    case APIC_ID:
    case APIC_VERSION:
    case APIC_ICR:
    case APIC_ICR_HIGH:
    case APIC_TIMER_INITIAL:
    case APIC_TIMER_CURRENT:
    case APIC_TIMER_DIVIDE:
        return true;
    default:
        return (number >= APIC_TPR && number <= APIC_ESR) ||
               (number >= APIC_LVT_TIMER && number < APIC_LVT_TIMER + LVTS);
    }
}

/* The registers are 32 bits at multiples of 16. Of smaller loads and of 64-bit ones processors make
 * what they like (SDM 3A 11.4.1): here parts of the register, and it with zeros. */
uint64_t lapic_mmio_read(struct lapic *lapic, unsigned offset, unsigned bytes)
{
    unsigned number = offset >> APIC_REGISTER_SHIFT;
    unsigned within = offset & ((1u << APIC_REGISTER_SHIFT) - 1);

    if (!xapic_has(number)) {
        lapic_error(lapic, LAPIC_ESR_ILLEGAL_REGISTER);
        return 0;
    }
    if (within >= REGISTER_BYTES)
        return 0;
    uint32_t value = read_register(lapic, number) >> 8 * within;
    return bytes >= REGISTER_BYTES ? value : value & (BIT32(8 * bytes) - 1);
}

static void xapic_write(struct lapic *lapic, unsigned number, uint32_t value)
{
    switch (number) {
    case APIC_LDR:
        lapic->ldr = value & LDR_BITS;
        break;
    case APIC_DFR:
        lapic->dfr = (value & LAPIC_DFR_MODEL) | DFR_ONES;
        break;
    case APIC_ICR:
        lapic_set(lapic, number, value & ICR_BITS);
        lapic_send(lapic);
        break;
    case APIC_ICR_HIGH:
        lapic_set(lapic, number, value & ICR_HIGH_BITS);
        break;
    default:
        write_register(lapic, number, value);
        break;
    }
    show_written(lapic, number);
}

void lapic_mmio_write(struct lapic *lapic, unsigned offset, unsigned bytes, uint64_t value)
{
    unsigned number = offset >> APIC_REGISTER_SHIFT;

    if (!xapic_has(number))
        lapic_error(lapic, LAPIC_ESR_ILLEGAL_REGISTER);
    else if (bytes == REGISTER_BYTES && number << APIC_REGISTER_SHIFT == offset)
        xapic_write(lapic, number, (uint32_t)value);
}

/* --- x2APIC mode: MSRs (SDM 3A 11.12.1.2) ----------------------------------------------------- */

static bool x2apic_can_read(unsigned number)
{
    switch (number) {
    case APIC_ID:
    case APIC_VERSION:
    case APIC_TPR:
    case APIC_PPR:
    case APIC_LDR:
    case APIC_SVR:
    case APIC_ESR:
    case APIC_ICR:
    case APIC_TIMER_INITIAL:
    case APIC_TIMER_CURRENT:
    case APIC_TIMER_DIVIDE:
        return true;
    default:
        return (number >= APIC_ISR && number < APIC_IRR + LAPIC_SET_WORDS) ||
               (number >= APIC_LVT_TIMER && number < APIC_LVT_TIMER + LVTS);
    }
}

/* False: not to be written. *bits: those that may be set. */
static bool x2apic_can_write(unsigned number, uint64_t *bits)
{
    if (number >= APIC_LVT_TIMER && number < APIC_LVT_TIMER + LVTS) {
        unsigned which = number - APIC_LVT_TIMER;
        bool is_lint = which == LVT_LINT0 || which == LVT_LINT1;
        *bits = lvt_bits[which] | LVT_STATUS | (is_lint ? LAPIC_LVT_REMOTE_IRR : 0);
        return true;
    }
    switch (number) {
    case APIC_TPR:
    case APIC_SELF_IPI:
        *bits = 0xff;
        return true;
    case APIC_EOI:
    case APIC_ESR:
        *bits = 0;
        return true;
    case APIC_SVR:
        *bits = SVR_VECTOR | APIC_SVR_ENABLE | LAPIC_SVR_SUPPRESS;
        return true;
    case APIC_ICR:
        *bits = 0xffffffffull << APIC_ICR_X2APIC_SHIFT | ICR_BITS;
        return true;
    case APIC_TIMER_INITIAL:
        *bits = 0xffffffff;
        return true;
    case APIC_TIMER_DIVIDE:
        *bits = LAPIC_DIVIDE_BITS;
        return true;
    default:
        return false;
    }
}

static bool x2apic_read(struct lapic *lapic, unsigned number, uint64_t *value)
{
    if (lapic->mode != LAPIC_X2APIC || !x2apic_can_read(number))
        return false;
    *value = read_register(lapic, number);
    if (number == APIC_ICR)
        *value |= (uint64_t)lapic_get(lapic, APIC_ICR_HIGH) << APIC_ICR_X2APIC_SHIFT;
    return true;
}

static bool x2apic_write(struct lapic *lapic, unsigned number, uint64_t value)
{
    uint64_t bits;

    if (lapic->mode != LAPIC_X2APIC || !x2apic_can_write(number, &bits) || (value & ~bits))
        return false;
    if (number == APIC_ICR) {
        lapic_set(lapic, APIC_ICR, (uint32_t)value);
        lapic_set(lapic, APIC_ICR_HIGH, (uint32_t)(value >> APIC_ICR_X2APIC_SHIFT));
        lapic_send(lapic);
    } else if (number == APIC_SELF_IPI) {
        lapic_send_to_self(lapic, (uint8_t)value);
    } else {
        write_register(lapic, number, (uint32_t)value);
    }
    show_written(lapic, number);
    return true;
}

void lapic_page_written(struct lapic *lapic, unsigned offset)
{
    unsigned number = offset >> APIC_REGISTER_SHIFT;
    uint32_t value = lapic_get(lapic, number);

    if (lapic->mode == LAPIC_XAPIC)
        xapic_write(lapic, number, value);
    else
        (void)x2apic_write(lapic, number, value);
}

/* --- modes and resets ------------------------------------------------------------------------- */

/* Registers but for IA32_APIC_BASE (SDM 3A 11.4.7.1). */
static void reset_registers(struct lapic *lapic)
{
    lapic_forget_interrupts(lapic);
    lapic_set(lapic, APIC_TPR, 0);
    lapic_set(lapic, APIC_ICR, 0);
    lapic_set(lapic, APIC_ICR_HIGH, 0);
    lapic->svr = SVR_VECTOR;
    lapic->dfr = LAPIC_DFR_FLAT | DFR_ONES;
    lapic->ldr = 0;
    lapic->errors = 0;
    lapic->esr = 0;
    for (unsigned i = 0; i < LVTS; i++)
        lapic->lvt[i] = APIC_LVT_MASKED;
    lapic_timer_stop(&lapic->timer);
    lapic->timer.divide = 0;
    lapic->view_stale = true;
}

void lapic_reset(struct lapic *lapic)
{
    lapic->base = LAPIC_BASE | APIC_BASE_ENABLE | (lapic->id == 0 ? APIC_BASE_BSP : 0);
    lapic->mode = LAPIC_XAPIC;
    lapic->nmi = false;
    lapic->init = false;
    lapic->sipi = false;
    reset_registers(lapic);
}

void lapic_init(struct lapic *lapic, unsigned id, struct lapic_page *page,
                const struct apic_bus *bus, unsigned ratio, unsigned physical_bits)
{
    uint64_t physical = physical_bits >= 64 ? ~0ull : (1ull << physical_bits) - 1;

    *lapic = (struct lapic){
        .bus = bus,
        .id = id,
        .page = page,
        .physical_mask = physical >> BASE_PAGE_SHIFT << BASE_PAGE_SHIFT,
        .timer = {.ratio = ratio},
    };
    lapic_reset(lapic);
}

void lapic_enter_virtual_wire(struct lapic *lapic)
{
    lapic->svr |= APIC_SVR_ENABLE;
    lapic->lvt[LVT_LINT0] = (uint32_t)APIC_EXTINT << APIC_LVT_DELIVERY_SHIFT;
    lapic->lvt[LVT_LINT1] = (uint32_t)APIC_NMI << APIC_LVT_DELIVERY_SHIFT;
}

void lapic_reset_by_init(struct lapic *lapic)
{
    reset_registers(lapic);
    lapic->nmi = false;
}

static enum lapic_mode mode_of(uint64_t base)
{
    if (!(base & APIC_BASE_ENABLE))
        return LAPIC_DISABLED;
    return base & APIC_BASE_X2APIC ? LAPIC_X2APIC : LAPIC_XAPIC;
}

/* SDM 3A figure 11-27: x2APIC mode is entered from xAPIC mode only, and left only by disabling. */
static bool is_legal_transition(enum lapic_mode from, uint64_t base)
{
    enum lapic_mode to = mode_of(base);

    if (to == LAPIC_DISABLED)
        return !(base & APIC_BASE_X2APIC);
    return to == from || (to == LAPIC_XAPIC && from == LAPIC_DISABLED) ||
           (to == LAPIC_X2APIC && from == LAPIC_XAPIC);
}

static bool write_base(struct lapic *lapic, uint64_t value)
{
    enum lapic_mode from = lapic->mode;

    if (value & ~(lapic->physical_mask | APIC_BASE_BSP | APIC_BASE_X2APIC | APIC_BASE_ENABLE))
        return false;
    if (!is_legal_transition(from, value))
        return false;
    lapic->base = value;
    lapic->mode = mode_of(value);
    lapic->view_stale = true;
    if (lapic->mode == LAPIC_DISABLED)
        reset_registers(lapic);
    if (lapic->mode == LAPIC_X2APIC && from == LAPIC_XAPIC)
        lapic_set(lapic, APIC_ICR_HIGH, 0); /* SDM 3A 11.12.5.1 */
    lapic_notify(lapic);
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
        lapic_timer_write_deadline(lapic, value);
        return true;
    }
    return msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST &&
           x2apic_write(lapic, msr - MSR_X2APIC, value);
}
