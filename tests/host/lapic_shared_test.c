/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A local APIC whose page a processor uses, beside one that is the model's alone: both get the
 * same, and a guest must not see which it has. The processor here does what SDM 3C 30.1 to 30.4 say
 * of virtual-interrupt delivery and APIC-register virtualization, and knows of the page only what
 * it was told when it was notified last.
 */
#include "hv/dev/lapic.h"

#include <string.h>

#include "hv/dev/clock.h"
#include "tests/host/test.h"

enum { PLAIN, SHARED, COUNT };

#define RATIO          10u
#define OPERATIONS     200000u
#define PRIORITY_CLASS 0xf0u

static struct lapic lapic[COUNT];
static struct lapic_page pages[COUNT];
static uint64_t now;
static struct {
    unsigned sent, ended, notified;
    struct apic_message message;
    enum apic_shorthand shorthand;
    uint8_t eoi;
} bus_log[COUNT];

static struct {
    uint8_t rvi, svi;
    struct vector_set eoi_exits;
} processor;

static uint64_t bus_now(void *context)
{
    (void)context;
    return now;
}

static void bus_send(void *context, unsigned from, enum apic_shorthand shorthand,
                     const struct apic_message *message)
{
    unsigned which = (unsigned)(uintptr_t)context;

    (void)from;
    if (shorthand == APIC_SELF) {
        lapic_deliver(&lapic[which], message);
        return;
    }
    bus_log[which].sent++;
    bus_log[which].shorthand = shorthand;
    bus_log[which].message = *message;
}

static void bus_eoi(void *context, uint8_t vector)
{
    unsigned which = (unsigned)(uintptr_t)context;

    bus_log[which].ended++;
    bus_log[which].eoi = vector;
}

static void bus_notify(void *context, unsigned cpu)
{
    (void)cpu;
    bus_log[(unsigned)(uintptr_t)context].notified++;
}

static struct apic_bus bus[COUNT];

/* --- the processor ---------------------------------------------------------------------------- */

static uint32_t *reg(unsigned number)
{
    return &pages[SHARED].reg[number].value;
}

static uint8_t highest(enum apic_register set)
{
    for (unsigned vector = LAPIC_VECTORS - 1; vector > 0; vector--) {
        if (*reg(set + vector / 32) >> vector % 32 & 1)
            return (uint8_t)vector;
    }
    return 0;
}

/* An exit for events, and the next entry. */
static void attend(void)
{
    bus_log[SHARED].notified = 0;
    lapic_settle(&lapic[SHARED]);
    if (!lapic_take_change(&lapic[SHARED]))
        return;
    processor.rvi = lapic_requested(&lapic[SHARED]);
    processor.svi = lapic_in_service(&lapic[SHARED]);
    for (unsigned i = 0; i < LAPIC_SET_WORDS; i++)
        processor.eoi_exits.word[i] = *reg(APIC_TMR + i);
}

static unsigned virtual_ppr(void)
{
    unsigned tpr = *reg(APIC_TPR);

    return (tpr & PRIORITY_CLASS) >= (processor.svi & PRIORITY_CLASS)
               ? tpr
               : processor.svi & PRIORITY_CLASS;
}

static int virtual_pending(void)
{
    return (processor.rvi & PRIORITY_CLASS) > (virtual_ppr() & PRIORITY_CLASS) ? processor.rvi : -1;
}

static void virtual_take(void)
{
    uint8_t vector = processor.rvi;

    *reg(APIC_ISR + vector / 32) |= 1u << vector % 32;
    *reg(APIC_IRR + vector / 32) &= ~(1u << vector % 32);
    processor.svi = vector;
    processor.rvi = highest(APIC_IRR);
}

static void virtual_eoi(void)
{
    uint8_t vector = processor.svi;

    *reg(APIC_EOI) = 0;
    *reg(APIC_ISR + vector / 32) &= ~(1u << vector % 32);
    processor.svi = highest(APIC_ISR);
    if (processor.eoi_exits.word[vector / 32] >> vector % 32 & 1)
        lapic_ended(&lapic[SHARED], vector);
}

static void virtual_self_ipi(uint8_t vector)
{
    *reg(APIC_IRR + vector / 32) |= 1u << vector % 32;
    if (vector > processor.rvi)
        processor.rvi = vector;
}

/* Whether a read of the register in xAPIC mode does not exit. */
static bool virtual_read(unsigned number)
{
    return number == APIC_ID || number == APIC_VERSION || number == APIC_TPR ||
           (number >= APIC_LDR && number <= APIC_ESR && number != APIC_PPR) ||
           (number >= APIC_ICR && number <= APIC_TIMER_INITIAL) || number == APIC_TIMER_DIVIDE;
}

/* --- the guest -------------------------------------------------------------------------------- */

static uint32_t guest_read(unsigned which, unsigned number)
{
    if (which == SHARED && virtual_read(number))
        return *reg(number);
    return (uint32_t)lapic_mmio_read(&lapic[which], number << APIC_REGISTER_SHIFT, 4);
}

static bool is_self_ipi(uint32_t icr)
{
    return (icr & 0xfff3b700u) == 0 && (icr >> 18 & 3) == APIC_SELF &&
           (icr & 0xff) >= APIC_VECTOR_MIN;
}

static void write_shared(unsigned number, uint32_t value)
{
    *reg(number) = value;
    if (number == APIC_TPR)
        *reg(number) = value & 0xff;
    else if (number == APIC_EOI)
        virtual_eoi();
    else if (number == APIC_ICR_HIGH)
        *reg(number) = value & 0xff000000u;
    else if (number == APIC_ICR && is_self_ipi(value))
        virtual_self_ipi((uint8_t)value);
    else
        lapic_page_written(&lapic[SHARED], number << APIC_REGISTER_SHIFT);
}

static void guest_write(unsigned number, uint32_t value)
{
    write_shared(number, value);
    lapic_mmio_write(&lapic[PLAIN], number << APIC_REGISTER_SHIFT, 4, value);
}

/* --- both ------------------------------------------------------------------------------------- */

static void power_on(void)
{
    memset(bus_log, 0, sizeof(bus_log));
    now = 1000000;
    for (unsigned i = 0; i < COUNT; i++) {
        bus[i] = (struct apic_bus){.context = (void *)(uintptr_t)i,
                                   .now = bus_now,
                                   .send = bus_send,
                                   .eoi = bus_eoi,
                                   .notify = bus_notify};
        lapic_init(&lapic[i], 3, &pages[i], &bus[i], RATIO, 40);
    }
    lapic_share(&lapic[SHARED]);
    attend();
    guest_write(APIC_SVR, 0x1ff);
}

static void deliver(uint8_t vector, bool level)
{
    struct apic_message message = {
        .destination = 3, .delivery = APIC_FIXED, .vector = vector, .level = level};

    CHECK(lapic_deliver(&lapic[PLAIN], &message) == lapic_deliver(&lapic[SHARED], &message),
          "0x%x: one takes it", vector);
}

static void set_lint(unsigned lint, bool level)
{
    lapic_set_lint(&lapic[PLAIN], lint, level);
    lapic_set_lint(&lapic[SHARED], lint, level);
}

static void tick(void)
{
    lapic_tick(&lapic[PLAIN]);
    lapic_tick(&lapic[SHARED]);
}

/* The guest takes what there is. */
static void take(void)
{
    int plain = lapic_pending(&lapic[PLAIN]), shared = virtual_pending();

    CHECK(plain == shared, "pending: 0x%x, and 0x%x", plain, shared);
    if (plain < 0 || shared < 0)
        return;
    lapic_take(&lapic[PLAIN]);
    virtual_take();
}

static void compare(unsigned operation)
{
    for (unsigned n = APIC_ID; n <= APIC_TIMER_DIVIDE; n++) {
        /* PPR and EOI are not the model's; where there is no register it notes an error. */
        if (!virtual_read(n) || n == APIC_EOI)
            continue;
        CHECK(guest_read(PLAIN, n) == guest_read(SHARED, n),
              "operation %u, register 0x%x: 0x%x, 0x%x", operation, n, guest_read(PLAIN, n),
              guest_read(SHARED, n));
    }
    CHECK(guest_read(PLAIN, APIC_TIMER_CURRENT) == guest_read(SHARED, APIC_TIMER_CURRENT),
          "operation %u: the count", operation);
    CHECK(guest_read(PLAIN, APIC_PPR) == virtual_ppr(), "operation %u: PPR", operation);
    CHECK(bus_log[PLAIN].sent == bus_log[SHARED].sent &&
              memcmp(&bus_log[PLAIN].message, &bus_log[SHARED].message,
                     sizeof(bus_log[PLAIN].message)) == 0,
          "operation %u: what was sent", operation);
    CHECK(bus_log[PLAIN].ended == bus_log[SHARED].ended &&
              bus_log[PLAIN].eoi == bus_log[SHARED].eoi,
          "operation %u: EOIs on the bus: %u, %u", operation, bus_log[PLAIN].ended,
          bus_log[SHARED].ended);
    CHECK(lapic_next_event(&lapic[PLAIN]) == lapic_next_event(&lapic[SHARED]),
          "operation %u: the timer", operation);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void requests_wait_beside_the_page(void)
{
    power_on();
    attend();
    deliver(0x55, false);
    CHECK(*reg(APIC_IRR + 2) == 0, "IRR changed while the guest ran");
    CHECK(bus_log[SHARED].notified > 0, "nobody was told");
    attend();
    CHECK(*reg(APIC_IRR + 2) == 1u << 0x15 && processor.rvi == 0x55, "0x55 is not in IRR");
}

static void levels_make_eoi_exit(void)
{
    power_on();
    deliver(0x55, true);
    attend();
    CHECK(processor.eoi_exits.word[2] == 1u << 0x15, "level-triggered");
    take();
    guest_write(APIC_EOI, 0);
    CHECK(bus_log[SHARED].ended == 1 && bus_log[SHARED].eoi == 0x55, "its EOI was not told");
    deliver(0x55, false);
    attend();
    CHECK(processor.eoi_exits.word[2] == 0, "edge-triggered");
    take();
    guest_write(APIC_EOI, 0);
    CHECK(bus_log[SHARED].ended == 1, "the EOI of an edge was told");
}

/* What cannot be read as it was written, in the page as in the model. */
static void the_page_shows_registers(void)
{
    power_on();
    guest_write(APIC_ID, 0x12345678);
    guest_write(APIC_LDR, 0x12345678);
    guest_write(APIC_DFR, 0);
    guest_write(APIC_LVT_LINT0, 0xffffffff);
    guest_write(APIC_ESR, 0x55);
    guest_write(APIC_TIMER_DIVIDE, 0xff);
    guest_write(APIC_TIMER_INITIAL, 1000);
    compare(1);
    guest_write(APIC_LVT_TIMER, TIMER_DEADLINE << APIC_LVT_MODE_SHIFT | 0x40);
    CHECK(*reg(APIC_TIMER_INITIAL) == 0, "the deadline mode has no count");
    compare(2);
    guest_write(APIC_SVR, 0xff);
    CHECK(*reg(APIC_LVT_LINT0) & APIC_LVT_MASKED, "disabled: LINT0 is masked");
    compare(3);
}

/* Where accesses are emulated after all, the processor's idea of ISR and PPR must follow. */
static void emulated_writes_are_told(void)
{
    power_on();
    deliver(0x55, false);
    attend();
    take();
    lapic_mmio_write(&lapic[SHARED], APIC_EOI << APIC_REGISTER_SHIFT, 4, 0);
    CHECK(bus_log[SHARED].notified > 0, "EOI was not told");
    attend();
    CHECK(processor.svi == 0, "0x%x is still in service", processor.svi);
    lapic_mmio_write(&lapic[SHARED], APIC_TPR << APIC_REGISTER_SHIFT, 4, 0x20);
    CHECK(bus_log[SHARED].notified > 0 && *reg(APIC_TPR) == 0x20, "TPR was not told");
}

/* Level-triggered LINT0: Remote IRR comes and goes by the model alone. */
static void remote_irr_shows(void)
{
    power_on();
    guest_write(APIC_LVT_LINT0, 0x8055);
    set_lint(0, true);
    attend();
    CHECK(*reg(APIC_LVT_LINT0) == 0xc055, "0x%x", *reg(APIC_LVT_LINT0));
    set_lint(0, false);
    take();
    guest_write(APIC_EOI, 0);
    attend();
    CHECK(*reg(APIC_LVT_LINT0) == 0x8055, "0x%x", *reg(APIC_LVT_LINT0));
    compare(1);
}

/* The processor is to do less for an APIC that is disabled by software. */
static void enabling_is_told(void)
{
    power_on();
    attend();
    guest_write(APIC_SVR, 0xff);
    CHECK(bus_log[SHARED].notified > 0, "disabling was not told");
    attend();
    guest_write(APIC_SVR, 0x1ff);
    CHECK(bus_log[SHARED].notified > 0, "enabling was not told");
}

static void init_empties_the_page(void)
{
    power_on();
    deliver(0x55, true);
    attend();
    deliver(0x66, false); /* not in the page yet */
    for (unsigned i = 0; i < COUNT; i++)
        lapic_reset_by_init(&lapic[i]);
    attend();
    CHECK(processor.rvi == 0 && processor.svi == 0, "something is left");
    compare(1);
}

/* Without virtual-interrupt delivery: when TPR alone holds a request back. */
static void tpr_threshold(void)
{
    power_on();
    lapic_set_tpr(&lapic[SHARED], 0x60);
    deliver(0x55, false);
    attend();
    CHECK(lapic_pending(&lapic[SHARED]) == -1 && lapic_tpr_threshold(&lapic[SHARED]) == 5, "5");
    *reg(APIC_TPR) = 0x40; /* by the processor */
    CHECK(lapic_pending(&lapic[SHARED]) == 0x55 && lapic_tpr_threshold(&lapic[SHARED]) == 0,
          "it can be taken");
    lapic_take(&lapic[SHARED]);
    deliver(0x51, false);
    attend();
    CHECK(lapic_tpr_threshold(&lapic[SHARED]) == 0, "what waits for an EOI");
    *reg(APIC_TPR) = 0x60;
    CHECK(lapic_tpr_threshold(&lapic[SHARED]) == 0, "what waits for both");
}

static void x2apic_mode(void)
{
    uint64_t value = 0;

    power_on();
    for (unsigned i = 0; i < COUNT; i++)
        CHECK(lapic_write_msr(&lapic[i], MSR_APIC_BASE,
                              0xfee00000 | APIC_BASE_ENABLE | APIC_BASE_X2APIC),
              "to x2APIC mode");
    attend();
    for (unsigned n = APIC_ID; n <= APIC_TIMER_DIVIDE; n++) {
        if (virtual_read(n) && lapic_read_msr(&lapic[PLAIN], MSR_X2APIC + n, &value))
            CHECK((uint32_t)value == *reg(n), "register 0x%x: 0x%llx, 0x%x", n,
                  (unsigned long long)value, *reg(n));
    }
    *reg(APIC_SELF_IPI) = 0x05; /* an illegal vector, which the processor leaves to the model */
    lapic_page_written(&lapic[SHARED], APIC_SELF_IPI << APIC_REGISTER_SHIFT);
    CHECK(lapic_write_msr(&lapic[SHARED], MSR_X2APIC + APIC_ESR, 0) && *reg(APIC_ESR) == 0x20,
          "0x%x", *reg(APIC_ESR));
    for (unsigned offset = 0x400; offset < LAPIC_SIZE; offset++) /* no registers */
        lapic_page_written(&lapic[SHARED], offset);
}

static uint32_t random_lvt(uint64_t random)
{
    return 1 | (uint32_t)(random & 0x180ff) | (uint32_t)(random >> 8 & 0x10000);
}

static void write_something(uint64_t *state)
{
    static const uint8_t registers[] = {APIC_ID,        APIC_LDR,         APIC_DFR,
                                        APIC_ESR,       APIC_ICR_HIGH,    APIC_TIMER_INITIAL,
                                        APIC_LVT_ERROR, APIC_LVT_LINT0,   APIC_LVT_LINT1,
                                        APIC_LVT_TIMER, APIC_TIMER_DIVIDE};
    uint64_t random = test_random(state);
    unsigned number = registers[random % sizeof(registers)];
    uint32_t value = (uint32_t)(random >> 32);

    if (number == APIC_TIMER_INITIAL)
        value &= 0xff;
    if (number >= APIC_LVT_TIMER && number <= APIC_LVT_ERROR)
        value = random_lvt(random >> 32);
    guest_write(number, value);
}

/* Odd vectors are level-triggered. A self-IPI is of an even one: the processor leaves TMR alone. */
static void operate(uint64_t *state)
{
    uint64_t random = test_random(state);
    uint8_t vector = (uint8_t)(random >> 8);

    switch (random % 10) {
    case 0:
    case 1:
        deliver(vector, vector & 1);
        return;
    case 2:
    case 3:
        take();
        return;
    case 4:
    case 5:
        guest_write(APIC_EOI, 0);
        return;
    case 6:
        guest_write(APIC_TPR, random >> 16 & 1 ? 0 : vector);
        return;
    case 7:
        if (lapic_accepts(&lapic[PLAIN])) /* where it does not, SDM 3C says nothing of self-IPIs */
            guest_write(APIC_ICR, (uint32_t)(random >> 16 & 0xcc7ffu & ~0xffu) | (vector & ~1u));
        return;
    case 8:
        write_something(state);
        return;
    default:
        if (random >> 16 & 1)
            set_lint(random >> 17 & 1, random >> 18 & 1);
        else if (random >> 19 & 7)
            now += random >> 24 & 0xfff;
        else
            guest_write(APIC_SVR, random >> 24 & 3 ? 0x1ff : 0xff);
        tick();
        return;
    }
}

static void random_traffic(void)
{
    uint64_t state = 1;

    power_on();
    for (unsigned i = 0; i < OPERATIONS && !test_failed_now; i++) {
        operate(&state);
        if (bus_log[SHARED].notified > 0)
            attend();
        compare(i);
    }
}

int main(void)
{
    RUN(requests_wait_beside_the_page);
    RUN(levels_make_eoi_exit);
    RUN(the_page_shows_registers);
    RUN(emulated_writes_are_told);
    RUN(remote_irr_shows);
    RUN(enabling_is_told);
    RUN(init_empties_the_page);
    RUN(tpr_threshold);
    RUN(x2apic_mode);
    RUN(random_traffic);
    return test_status();
}
