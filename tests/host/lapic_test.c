/* SPDX-License-Identifier: BSD-2-Clause */
/* One local APIC on a bus that writes down what it says; SDM 3A chapter 11 is the specification. */
#include "hv/dev/lapic.h"

#include <string.h>

#include "hv/dev/clock.h"
#include "tests/host/test.h"

#define RATIO 10u

enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_T = 0x320,
    LVT_0 = 0x350,
    LVT_1 = 0x360,
    LVT_E = 0x370,
    INITIAL = 0x380,
    CURRENT = 0x390,
    DIVIDE = 0x3e0,
};

enum { APIC_BASE = 0x1b, TSC_DEADLINE = 0x6e0, X2 = 0x800 };
#define BASE_X2APIC 0x400ull
#define BASE_ENABLE 0x800ull

static struct lapic lapic;
static struct lapic_page page;
static uint64_t now;
static struct {
    unsigned sent, ended, notified;
    enum apic_shorthand shorthand;
    struct apic_message message;
    uint8_t eoi;
} bus_log;

static uint64_t bus_now(void *context)
{
    (void)context;
    return now;
}

static void bus_send(void *context, unsigned from, enum apic_shorthand shorthand,
                     const struct apic_message *message)
{
    (void)context, (void)from;
    bus_log.sent++;
    bus_log.shorthand = shorthand;
    bus_log.message = *message;
}

static void bus_eoi(void *context, uint8_t vector)
{
    (void)context;
    bus_log.ended++;
    bus_log.eoi = vector;
}

static void bus_notify(void *context, unsigned cpu)
{
    (void)context, (void)cpu;
    bus_log.notified++;
}

static const struct apic_bus bus = {
    .now = bus_now, .send = bus_send, .eoi = bus_eoi, .notify = bus_notify};

static uint32_t in(unsigned offset)
{
    return (uint32_t)lapic_mmio_read(&lapic, offset, 4);
}

static void out(unsigned offset, uint32_t value)
{
    lapic_mmio_write(&lapic, offset, 4, value);
}

static bool wrmsr(uint32_t msr, uint64_t value)
{
    return lapic_write_msr(&lapic, msr, value);
}

static uint64_t rdmsr(uint32_t msr)
{
    uint64_t value = 0;

    CHECK(lapic_read_msr(&lapic, msr, &value), "RDMSR 0x%x", msr);
    return value;
}

/* As after power-on; then software-enabled. */
static void power_on(unsigned id)
{
    memset(&bus_log, 0, sizeof(bus_log));
    now = 1000000;
    lapic_init(&lapic, id, &page, &bus, RATIO, 40);
}

static void reset(void)
{
    power_on(3);
    out(SVR, 0x1ff);
}

static void enter_x2apic(void)
{
    reset();
    CHECK(wrmsr(APIC_BASE, 0xfee00000 | BASE_ENABLE | BASE_X2APIC), "to x2APIC mode");
}

static bool deliver(enum apic_delivery delivery, uint8_t vector, bool level)
{
    return lapic_deliver(
        &lapic, &(struct apic_message){
                    .destination = 3, .delivery = delivery, .vector = vector, .level = level});
}

static void fixed(uint8_t vector)
{
    CHECK(deliver(APIC_FIXED, vector, false), "0x%x is accepted", vector);
}

static void expect(int vector, const char *what)
{
    CHECK(lapic_pending(&lapic) == vector, "%s: %d", what, lapic_pending(&lapic));
    if (lapic_pending(&lapic) == vector && vector >= 0)
        lapic_take(&lapic);
}

/* Figure 11-8 and section 11.4.7.1 */
static void state_after_reset(void)
{
    power_on(3);
    CHECK(in(ID) == 3u << 24 && in(VERSION) == 0x01050014, "ID, version");
    CHECK(in(TPR) == 0 && in(PPR) == 0 && in(LDR) == 0 && in(DFR) == 0xffffffff, "priorities");
    CHECK(in(SVR) == 0xff, "SVR");
    for (unsigned lvt = LVT_T; lvt <= LVT_E; lvt += 0x10)
        CHECK(in(lvt) == 0x10000, "LVT 0x%x", lvt);
    for (unsigned i = 0; i < 8; i++)
        CHECK(in(IRR + 16 * i) == 0 && in(ISR + 16 * i) == 0 && in(TMR + 16 * i) == 0, "sets");
    CHECK(in(INITIAL) == 0 && in(CURRENT) == 0 && in(DIVIDE) == 0 && in(ICR) == 0, "zero");
    CHECK(in(ESR) == 0 && rdmsr(APIC_BASE) == 0xfee00800, "base");
    power_on(0);
    CHECK(rdmsr(APIC_BASE) == 0xfee00900, "the bootstrap processor's");
    CHECK(!lapic_passes_extint(&lapic), "LINT0 is masked");
    lapic_enter_virtual_wire(&lapic);
    CHECK(in(SVR) == 0x1ff && in(LVT_0) == 0x700 && in(LVT_1) == 0x400, "virtual wire mode");
    CHECK(lapic_passes_extint(&lapic), "LINT0 is ExtINT");
    lapic_set_lint(&lapic, 1, true);
    CHECK(lapic.nmi, "LINT1 is NMI");
    out(LVT_0, 0x10700);
    CHECK(!lapic_passes_extint(&lapic), "masked");
    CHECK(wrmsr(APIC_BASE, 0xfee00100), "globally disabled");
    CHECK(lapic_passes_extint(&lapic), "the pin is INTR");
}

static void irr_to_isr_to_eoi(void)
{
    reset();
    fixed(0x31);
    CHECK(in(IRR + 0x10) == 0x20000 && in(ISR + 0x10) == 0, "IRR");
    CHECK(bus_log.notified == 1, "the processor is told");
    fixed(0x31);
    CHECK(bus_log.notified == 1, "it is one");
    expect(0x31, "taken");
    CHECK(in(IRR + 0x10) == 0 && in(ISR + 0x10) == 0x20000 && in(PPR) == 0x30, "ISR");
    fixed(0x31);
    expect(-1, "another one waits for EOI");
    out(EOI, 0);
    CHECK(in(ISR + 0x10) == 0 && in(PPR) == 0 && bus_log.ended == 0, "no message for an edge");
    expect(0x31, "the other");
    out(EOI, 0), out(EOI, 0);
    expect(-1, "EOI without an interrupt");
}

/* Section 11.8.3.1: only a higher class interrupts. */
static void priority_classes(void)
{
    reset();
    fixed(0x42), fixed(0x48), fixed(0x90), fixed(0x33);
    expect(0x90, "the highest");
    expect(-1, "lower classes wait");
    fixed(0x9f);
    expect(-1, "the same class waits");
    fixed(0xa0);
    expect(0xa0, "a higher one does not");
    CHECK(in(PPR) == 0xa0, "PPR 0x%x", in(PPR));
    out(EOI, 0);
    CHECK(in(PPR) == 0x90 && (in(ISR + 0x40) & 0x10000), "0x90 is still in service");
    out(EOI, 0);
    expect(0x9f, "next");
    out(EOI, 0);
    out(TPR, 0x41);
    CHECK(in(PPR) == 0x41 && lapic_priority(&lapic) == 0x41, "TPR is the priority");
    expect(-1, "class 4 is held back");
    out(TPR, 0x3f);
    expect(0x48, "class 4 comes through");
    CHECK(in(PPR) == 0x40, "PPR 0x%x", in(PPR));
    out(TPR, 0x47);
    CHECK(in(PPR) == 0x47, "TPR of the same class: PPR 0x%x", in(PPR));
    out(EOI, 0);
    out(TPR, 0x20);
    bus_log.notified = 0;
    lapic_set_tpr(&lapic, 0);
    CHECK(bus_log.notified == 0, "nothing new");
    expect(0x42, "0x42");
    out(EOI, 0);
    expect(0x33, "0x33");
}

static void level_triggered_ones_are_ended_on_the_bus(void)
{
    reset();
    CHECK(deliver(APIC_FIXED, 0x51, true), "level");
    CHECK(in(TMR + 0x20) == 0x20000, "TMR");
    expect(0x51, "taken");
    out(EOI, 0);
    CHECK(bus_log.ended == 1 && bus_log.eoi == 0x51, "EOI message");
    fixed(0x51);
    CHECK(in(TMR + 0x20) == 0, "an edge clears TMR");
    expect(0x51, "taken");
    out(EOI, 0);
    CHECK(bus_log.ended == 1, "no message");
    out(SVR, 0x11ff);
    CHECK(in(SVR) == 0x11ff, "suppression of EOI broadcasts");
    deliver(APIC_FIXED, 0x51, true);
    expect(0x51, "taken");
    out(EOI, 0);
    CHECK(bus_log.ended == 1 && in(ISR + 0x20) == 0, "suppressed");
}

/* Section 11.4.7.2 */
static void disabled_by_software(void)
{
    reset();
    out(LVT_T, 0x40), out(LVT_E, 0x41);
    fixed(0x35);
    out(SVR, 0xff);
    CHECK(in(LVT_T) == 0x10040 && in(LVT_E) == 0x10041, "the LVT is masked");
    out(LVT_T, 0x42);
    CHECK(in(LVT_T) == 0x10042, "and stays so");
    CHECK(!deliver(APIC_FIXED, 0x36, false) && !lapic_accepts(&lapic), "no fixed ones");
    CHECK(deliver(APIC_NMI, 0, false) && lapic.nmi, "NMI");
    CHECK(deliver(APIC_INIT, 0, false) && lapic.init, "INIT");
    CHECK(deliver(APIC_SIPI, 0x9a, false) && lapic.sipi && lapic.sipi_page == 0x9a, "SIPI");
    expect(0x35, "what was pending is");
    out(ICR, 0x4031);
    CHECK(bus_log.sent == 1, "it can send");
    out(SVR, 0x1ff);
    CHECK(in(LVT_T) == 0x10042, "enabling unmasks nothing");
}

static void init_resets_it(void)
{
    reset();
    deliver(APIC_SIPI, 1, false);
    deliver(APIC_INIT, 0, false);
    CHECK(lapic.init && !lapic.sipi, "INIT starts anew");
    out(TPR, 0x20), out(LDR, 0x01000000), out(LVT_T, 0x33), out(INITIAL, 5);
    fixed(0x44);
    deliver(APIC_NMI, 0, false);
    lapic_reset_by_init(&lapic);
    CHECK(in(TPR) == 0 && in(LDR) == 0 && in(SVR) == 0xff && in(LVT_T) == 0x10000, "registers");
    CHECK(in(IRR + 0x20) == 0 && !lapic.nmi && lapic_next_event(&lapic) == NO_EVENT, "nothing");
    expect(-1, "nothing is pending");
    enter_x2apic();
    lapic_reset_by_init(&lapic);
    CHECK(rdmsr(APIC_BASE) == 0xfee00c00 && rdmsr(X2 + 2) == 3, "the mode and the ID stay");
}

static struct apic_message to(uint32_t destination, bool logical)
{
    return (struct apic_message){.destination = destination, .logical = logical, .vector = 0x40};
}

static bool matches(uint32_t destination, bool logical)
{
    struct apic_message message = to(destination, logical);

    return lapic_matches(&lapic, &message);
}

/* Section 11.6.2 */
static void destinations(void)
{
    reset();
    CHECK(matches(3, false) && !matches(2, false) && !matches(0xff, false), "physical");
    CHECK(matches(APIC_BROADCAST, false) && matches(APIC_BROADCAST, true), "broadcast");
    CHECK(!matches(0xff, true), "no logical ID yet");
    out(LDR, 0x24ffffff);
    CHECK(in(LDR) == 0x24000000, "LDR");
    CHECK(matches(0x04, true) && matches(0x20, true) && matches(0xfc, true), "flat");
    CHECK(!matches(0xdb, true) && !matches(0x2400, true), "flat, others");
    out(DFR, 0x0);
    CHECK(in(DFR) == 0x0fffffff, "DFR");
    CHECK(matches(0x24, true) && matches(0x2f, true) && matches(0xf4, true), "cluster 2");
    CHECK(!matches(0x14, true) && !matches(0x2b, true) && !matches(0x20, true), "others");
    enter_x2apic();
    CHECK(rdmsr(X2 + 0x0d) == 8, "LDR follows from the ID");
    CHECK(matches(8, true) && matches(0xffff, true) && !matches(0x10008, true), "cluster 0");
    CHECK(!matches(0xfff7, true) && matches(3, false) && !matches(0x103, false), "others");
    power_on(37);
    wrmsr(APIC_BASE, 0xfee00c00);
    CHECK(rdmsr(X2 + 0x0d) == 0x20020 && rdmsr(X2 + 2) == 37, "ID 37: cluster 2, bit 5");
    CHECK(matches(0x20020, true) && !matches(0x20, true) && !matches(0x10020, true), "cluster 2");
    wrmsr(APIC_BASE, 0xfee00000);
    CHECK(!matches(37, false) && !matches(APIC_BROADCAST, false), "disabled");
}

static void expect_sent(enum apic_delivery delivery, uint8_t vector, uint32_t destination,
                        bool logical, enum apic_shorthand shorthand, const char *what)
{
    const struct apic_message *m = &bus_log.message;

    CHECK(bus_log.sent == 1, "%s: %u sent", what, bus_log.sent);
    CHECK(m->delivery == delivery && m->vector == vector && m->logical == logical && !m->level &&
              bus_log.shorthand == shorthand,
          "%s: %u 0x%x", what, m->delivery, m->vector);
    CHECK(shorthand != APIC_NO_SHORTHAND || m->destination == destination, "%s: to 0x%x", what,
          m->destination);
    bus_log.sent = 0;
}

/* Figure 11-12 and table 11-3 */
static void interprocessor_interrupts(void)
{
    reset();
    out(ICR_HIGH, 0x05ffffff);
    CHECK(in(ICR_HIGH) == 0x05000000 && bus_log.sent == 0, "the high half sends nothing");
    out(ICR, 0xfff33000 | 0x40fd);
    CHECK(in(ICR) == 0x000040fd, "reserved bits and the delivery status are 0: 0x%x", in(ICR));
    expect_sent(APIC_FIXED, 0xfd, 5, false, APIC_NO_SHORTHAND, "fixed");
    out(ICR, 0x0941);
    expect_sent(APIC_LOWEST, 0x41, 5, true, APIC_NO_SHORTHAND, "lowest priority, logical");
    out(ICR, 0x4400);
    expect_sent(APIC_NMI, 0, 5, false, APIC_NO_SHORTHAND, "NMI");
    out(ICR, 0xc500);
    expect_sent(APIC_INIT, 0, 5, false, APIC_NO_SHORTHAND, "INIT, level assert");
    out(ICR, 0x8500);
    CHECK(bus_log.sent == 0, "INIT level de-assert is nothing");
    out(ICR, 0x0500);
    expect_sent(APIC_INIT, 0, 5, false, APIC_NO_SHORTHAND, "INIT, edge");
    out(ICR, 0x4699);
    expect_sent(APIC_SIPI, 0x99, 5, false, APIC_NO_SHORTHAND, "SIPI");
    out(ICR, 0x40031), expect_sent(APIC_FIXED, 0x31, 0, false, APIC_SELF, "self");
    out(ICR, 0x80032), expect_sent(APIC_FIXED, 0x32, 0, false, APIC_ALL, "all");
    out(ICR, 0xc0033), expect_sent(APIC_FIXED, 0x33, 0, false, APIC_OTHERS, "others");
    out(ICR, 0xc4500), expect_sent(APIC_INIT, 0, 0, false, APIC_OTHERS, "INIT to the others");
    out(ICR, 0x44400), out(ICR, 0x84500), out(ICR, 0x40131);
    CHECK(bus_log.sent == 0, "only fixed ones to oneself");
    out(ICR, 0x4331), out(ICR, 0x4731);
    CHECK(bus_log.sent == 0, "reserved modes");
    out(ICR_HIGH, 0xff000000);
    out(ICR, 0x40fd);
    expect_sent(APIC_FIXED, 0xfd, APIC_BROADCAST, false, APIC_NO_SHORTHAND, "broadcast");
}

/* Section 11.5.3 */
static void errors(void)
{
    reset();
    out(LVT_E, 0x77);
    out(ICR, 0x400f);
    CHECK(bus_log.sent == 0 && in(ESR) == 0, "an illegal vector is not sent; ESR shows later");
    expect(0x77, "the error interrupt");
    out(EOI, 0);
    out(ESR, 0xffffffff);
    CHECK(in(ESR) == 0x20, "send illegal vector: 0x%x", in(ESR));
    deliver(APIC_FIXED, 0x0e, false);
    expect(0x77, "received");
    out(EOI, 0);
    CHECK(in(ESR) == 0x20, "as written last");
    out(ESR, 0);
    CHECK(in(ESR) == 0x40, "receive illegal vector: 0x%x", in(ESR));
    in(0x3d0);
    expect(0x77, "illegal register");
    out(EOI, 0);
    out(0x2f0, 1);
    expect(0x77, "a store to one");
    out(EOI, 0);
    out(ESR, 0);
    CHECK(in(ESR) == 0x80, "illegal register: 0x%x", in(ESR));
    out(ESR, 0);
    CHECK(in(ESR) == 0, "none since");
    out(LVT_E, 0x07);
    out(ICR, 0x4000);
    expect(-1, "an illegal vector for errors");
    out(ESR, 0);
    CHECK(in(ESR) == 0x60, "is an error: 0x%x", in(ESR));
}

static void lint_pins(void)
{
    reset();
    out(LVT_0, 0x61);
    lapic_set_lint(&lapic, 0, true), lapic_set_lint(&lapic, 0, true);
    expect(0x61, "edge");
    out(EOI, 0);
    expect(-1, "once");
    out(LVT_0, 0x8061);
    CHECK(in(LVT_0) == 0xc061, "a level that is there: remote IRR");
    expect(0x61, "level");
    CHECK(in(TMR + 0x30) == 2, "TMR");
    out(EOI, 0);
    expect(0x61, "still there");
    lapic_set_lint(&lapic, 0, false);
    out(EOI, 0);
    expect(-1, "gone");
    CHECK(in(LVT_0) == 0x8061, "remote IRR is clear");
    out(LVT_1, 0x400);
    lapic_set_lint(&lapic, 1, true);
    CHECK(lapic.nmi, "NMI");
    lapic.nmi = false;
    lapic_set_lint(&lapic, 1, false);
    out(LVT_1, 0x10400);
    lapic_set_lint(&lapic, 1, true);
    CHECK(!lapic.nmi, "masked");
    lapic_set_lint(&lapic, 1, false);
    wrmsr(APIC_BASE, 0xfee00000);
    lapic_set_lint(&lapic, 1, true);
    CHECK(lapic.nmi, "disabled, the pin is NMI");
}

/* --- the timer -------------------------------------------------------------------------------- */

static void at(uint64_t time)
{
    now = time;
    lapic_tick(&lapic);
}

static void timer_one_shot(void)
{
    reset();
    out(LVT_T, 0x20);
    out(DIVIDE, 0x3); /* by 16: 160 ticks of the TSC */
    uint64_t start = now;
    out(INITIAL, 1000);
    CHECK(lapic_next_event(&lapic) == start + 160000, "due");
    CHECK(in(CURRENT) == 1000 && in(INITIAL) == 1000, "it starts");
    at(start + 159);
    CHECK(in(CURRENT) == 1000, "%u", in(CURRENT));
    at(start + 160);
    CHECK(in(CURRENT) == 999, "%u", in(CURRENT));
    at(start + 159999);
    CHECK(in(CURRENT) == 1, "%u", in(CURRENT));
    expect(-1, "not yet");
    at(start + 160000);
    CHECK(in(CURRENT) == 0 && lapic_next_event(&lapic) == NO_EVENT, "stopped");
    expect(0x20, "now");
    at(start + 10000000);
    expect(-1, "once");
    out(INITIAL, 50), out(INITIAL, 0);
    CHECK(lapic_next_event(&lapic) == NO_EVENT && in(CURRENT) == 0, "0 stops it");
}

static void timer_divides(void)
{
    static const struct {
        uint32_t code, divisor;
    } table[] = {{0x0, 2},  {0x1, 4},  {0x2, 8},   {0x3, 16},
                 {0x8, 32}, {0x9, 64}, {0xa, 128}, {0xb, 1}}; /* figure 11-10 */

    reset();
    out(LVT_T, 0x20);
    for (unsigned i = 0; i < 8; i++) {
        out(DIVIDE, table[i].code | 0xfffffff4);
        CHECK(in(DIVIDE) == table[i].code, "bits");
        out(INITIAL, 7);
        CHECK(lapic_next_event(&lapic) == now + 7 * RATIO * table[i].divisor, "by %u",
              table[i].divisor);
    }
    out(DIVIDE, 0x1);
    out(INITIAL, 100);
    at(now + 40 * 4 * RATIO);
    out(DIVIDE, 0x2);
    CHECK(in(CURRENT) == 60 && lapic_next_event(&lapic) == now + 60 * 8 * RATIO, "counts stay");
}

static void timer_periodic(void)
{
    reset();
    out(DIVIDE, 0xb);
    out(LVT_T, 0x20020);
    uint64_t start = now, period = 10000 * RATIO;
    out(INITIAL, 10000);
    for (uint64_t i = 1; i <= 1000; i++) {
        CHECK(lapic_next_event(&lapic) == start + i * period, "no drift");
        at(start + i * period + i % period);
        CHECK(in(CURRENT) == 10000 - i % period / RATIO, "it goes on: %u", in(CURRENT));
        expect(0x20, "each period");
        out(EOI, 0);
    }
    at(start + 5000 * period + 30);
    expect(0x20, "after a pause");
    out(EOI, 0);
    expect(-1, "one");
    CHECK(lapic_next_event(&lapic) == start + 5001 * period, "in the old phase");
    out(LVT_T, 0x30020);
    CHECK(lapic_next_event(&lapic) == NO_EVENT, "masked: nobody needs to come");
    now = start + 6000 * period + 10;
    CHECK(in(CURRENT) == 9999, "but it counts: %u", in(CURRENT));
    out(LVT_T, 0x20020);
    expect(-1, "what was masked is lost");
    CHECK(lapic_next_event(&lapic) == start + 6001 * period, "it goes on");
    out(LVT_T, 0x20);
    at(start + 6001 * period);
    expect(0x20, "one-shot now");
    CHECK(lapic_next_event(&lapic) == NO_EVENT, "and over");
}

/* Periods that nobody could serve: one interrupt for many of them, and time in between. */
static void timer_storm(void)
{
    reset();
    out(DIVIDE, 0xb);
    out(LVT_T, 0x20020);
    out(INITIAL, 1);
    CHECK(lapic_next_event(&lapic) == now + RATIO, "the first in its time");
    for (unsigned i = 0; i < 10; i++) {
        at(lapic_next_event(&lapic));
        CHECK(lapic_next_event(&lapic) >= now + 1000 * RATIO, "then there is time for the guest");
        expect(0x20, "one");
        out(EOI, 0);
        at(now + 500 * RATIO);
        expect(-1, "and no other before");
        CHECK(in(CURRENT) <= 1, "it counts as it should: %u", in(CURRENT));
    }
    out(LVT_T, 0x20);
    out(INITIAL, 1);
    CHECK(lapic_next_event(&lapic) == now + RATIO, "one-shot ones are as short as they are");
}

static void timer_deadline(void)
{
    reset();
    CHECK(wrmsr(TSC_DEADLINE, now + 5) && rdmsr(TSC_DEADLINE) == 0, "in other modes: nothing");
    out(LVT_T, 0x20);
    out(INITIAL, 1000);
    out(LVT_T, 0x40020);
    CHECK(lapic_next_event(&lapic) == NO_EVENT && in(CURRENT) == 0, "the switch disarms");
    out(INITIAL, 1000);
    CHECK(in(INITIAL) == 0 && lapic_next_event(&lapic) == NO_EVENT, "no counts in this mode");
    wrmsr(TSC_DEADLINE, now + 500);
    CHECK(rdmsr(TSC_DEADLINE) == now + 500 && lapic_next_event(&lapic) == now + 500, "armed");
    CHECK(in(CURRENT) == 0, "no count");
    at(now + 499);
    expect(-1, "not yet");
    at(now + 1);
    expect(0x20, "now");
    out(EOI, 0);
    CHECK(rdmsr(TSC_DEADLINE) == 0 && lapic_next_event(&lapic) == NO_EVENT, "disarmed");
    wrmsr(TSC_DEADLINE, now - 1);
    expect(0x20, "in the past: at once");
    out(EOI, 0);
    wrmsr(TSC_DEADLINE, now + 500), wrmsr(TSC_DEADLINE, 0);
    CHECK(lapic_next_event(&lapic) == NO_EVENT, "0 disarms");
    wrmsr(TSC_DEADLINE, now + 500);
    out(LVT_T, 0x20);
    CHECK(lapic_next_event(&lapic) == NO_EVENT && rdmsr(TSC_DEADLINE) == 0, "so does a switch");
    out(LVT_T, 0x50020);
    wrmsr(TSC_DEADLINE, now + 500);
    now += 500;
    CHECK(rdmsr(TSC_DEADLINE) == 0, "masked, it passes all the same");
    out(LVT_T, 0x40020);
    expect(-1, "and is lost");
}

/* --- modes ------------------------------------------------------------------------------------ */

/* Section 11.12.5, all pairs of EN and EXTD. */
static void mode_transitions(void)
{
    static const uint64_t bits[] = {0, BASE_X2APIC, BASE_ENABLE, BASE_ENABLE | BASE_X2APIC};
    static const bool legal[4][4] = {
        /* to: off, invalid, xAPIC, x2APIC */
        [0] = {true, false, true, false},
        [2] = {true, false, true, true},
        [3] = {true, false, false, true},
    };

    for (unsigned from = 0; from < 4; from++) {
        for (unsigned next = 0; from != 1 && next < 4; next++) {
            reset();
            if (from == 0)
                CHECK(wrmsr(APIC_BASE, 0xfee00000), "off");
            if (from == 3)
                CHECK(wrmsr(APIC_BASE, 0xfee00c00), "x2APIC");
            bool done = wrmsr(APIC_BASE, 0xfee00000 | bits[next]);
            CHECK(done == legal[from][next], "%u to %u", from, next);
            CHECK(rdmsr(APIC_BASE) == (0xfee00000 | bits[done ? next : from]), "what it is now");
        }
    }
    reset();
    CHECK(!wrmsr(APIC_BASE, 1ull << 40 | 0xfee00800), "beyond MAXPHYADDR");
    CHECK(!wrmsr(APIC_BASE, 0xfee00a00) && !wrmsr(APIC_BASE, 0xfee00801), "reserved bits");
    CHECK(wrmsr(APIC_BASE, 0xfffedcb000 | BASE_ENABLE), "it moves");
    CHECK(lapic_base(&lapic) == 0xfffedcb000, "there");
}

static void disabling_resets(void)
{
    reset();
    out(TPR, 0x10), out(LVT_T, 0x20020), out(INITIAL, 5);
    fixed(0x30);
    wrmsr(APIC_BASE, 0xfee00000);
    expect(-1, "nothing is pending");
    CHECK(lapic_next_event(&lapic) == NO_EVENT, "no timer");
    wrmsr(APIC_BASE, 0xfee00800);
    CHECK(in(TPR) == 0 && in(SVR) == 0xff && in(LVT_T) == 0x10000 && in(IRR + 0x10) == 0,
          "as after reset");
}

static void x2apic_keeps_the_state(void)
{
    reset();
    out(TPR, 0x10), out(LVT_T, 0x20), out(ICR_HIGH, 0x05000000);
    fixed(0x30);
    wrmsr(APIC_BASE, 0xfee00c00);
    CHECK(rdmsr(X2 + 8) == 0x10 && rdmsr(X2 + 0x32) == 0x20 && rdmsr(X2 + 0x21) == 0x10000,
          "registers");
    CHECK(rdmsr(X2 + 0x30) == 0, "the ICR's destination is cleared");
    expect(0x30, "what was pending is");
    CHECK(wrmsr(X2 + 0x0b, 0) && rdmsr(X2 + 0x11) == 0, "EOI");
}

/* Table 11-6: which can be read, which written, with which bits. */
static void x2apic_registers(void)
{
    static const struct {
        uint32_t number;
        bool read, write;
        uint64_t reserved; /* a bit that cannot be set */
    } table[] = {
        {0x02, true, false, 0},      {0x03, true, false, 0},     {0x08, true, true, 0x100},
        {0x09, false, false, 0},     {0x0a, true, false, 0},     {0x0b, false, true, 0x1},
        {0x0c, false, false, 0},     {0x0d, true, false, 0},     {0x0e, false, false, 0},
        {0x0f, true, true, 0x400},   {0x10, true, false, 0},     {0x17, true, false, 0},
        {0x18, true, false, 0},      {0x1f, true, false, 0},     {0x20, true, false, 0},
        {0x27, true, false, 0},      {0x28, true, true, 0x1},    {0x2f, false, false, 0},
        {0x30, true, true, 0x1000},  {0x31, false, false, 0},    {0x32, true, true, 0x100},
        {0x33, true, true, 0x20000}, {0x34, true, true, 0x8000}, {0x35, true, true, 0x20000},
        {0x36, true, true, 0x20000}, {0x37, true, true, 0x100},  {0x38, true, true, 1ull << 32},
        {0x39, true, false, 0},      {0x3a, false, false, 0},    {0x3e, true, true, 0x4},
        {0x3f, false, true, 0x100},  {0x40, false, false, 0},    {0xff, false, false, 0},
    };
    uint64_t value;

    enter_x2apic();
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint32_t msr = X2 + table[i].number;
        CHECK(lapic_read_msr(&lapic, msr, &value) == table[i].read, "RDMSR 0x%x", msr);
        CHECK(wrmsr(msr, 0) == table[i].write, "WRMSR 0x%x", msr);
        CHECK(!wrmsr(msr, table[i].reserved) || table[i].reserved == 0, "WRMSR 0x%x: 0x%llx", msr,
              (unsigned long long)table[i].reserved);
        CHECK(!wrmsr(msr, 1ull << 63) || table[i].number == 0x30, "WRMSR 0x%x: bit 63", msr);
    }
    reset();
    for (uint32_t msr = X2; msr < X2 + 0x100; msr++)
        CHECK(!lapic_read_msr(&lapic, msr, &value) && !wrmsr(msr, 0), "in xAPIC mode: 0x%x", msr);
}

static void x2apic_sends(void)
{
    enter_x2apic();

    wrmsr(X2 + 0x30, 0x00020004000008fdull);
    expect_sent(APIC_FIXED, 0xfd, 0x20004, true, APIC_NO_SHORTHAND, "64 bits at once");
    CHECK(rdmsr(X2 + 0x30) == 0x00020004000008fdull, "read back");
    wrmsr(X2 + 0x30, 0xffffffff00000400ull);
    expect_sent(APIC_NMI, 0, APIC_BROADCAST, false, APIC_NO_SHORTHAND, "broadcast");
    wrmsr(X2 + 0x30, 0x000000ff00000400ull);
    expect_sent(APIC_NMI, 0, 0xff, false, APIC_NO_SHORTHAND, "0xff is an ID here");
    CHECK(wrmsr(X2 + 0x3f, 0x55), "SELF IPI");
    expect(0x55, "SELF IPI");
    CHECK(wrmsr(X2 + 0x3f, 0x05) && wrmsr(X2 + 0x28, 0) && rdmsr(X2 + 0x28) == 0x20,
          "an illegal vector: 0x%llx", (unsigned long long)rdmsr(X2 + 0x28));
}

/* Section 11.4.1: 32-bit accesses to multiples of 16. */
static void widths(void)
{
    reset();
    CHECK(lapic_mmio_read(&lapic, VERSION, 1) == 0x14 && lapic_mmio_read(&lapic, 0x32, 2) == 0x105,
          "parts of a register");
    CHECK(lapic_mmio_read(&lapic, VERSION, 8) == 0x01050014 &&
              lapic_mmio_read(&lapic, 0x34, 4) == 0,
          "what is between");
    lapic_mmio_write(&lapic, TPR, 1, 0x20);
    lapic_mmio_write(&lapic, TPR, 2, 0x20);
    lapic_mmio_write(&lapic, TPR, 8, 0x20);
    lapic_mmio_write(&lapic, TPR + 4, 4, 0x20);
    CHECK(in(TPR) == 0, "other stores are ignored");
    for (unsigned offset = 0; offset < LAPIC_SIZE; offset++) {
        for (unsigned bytes = 1; bytes <= 8; bytes *= 2) {
            lapic_mmio_read(&lapic, offset, bytes);
            lapic_mmio_write(&lapic, offset, bytes, ~0ull);
        }
    }
}

int main(void)
{
    RUN(state_after_reset);
    RUN(irr_to_isr_to_eoi);
    RUN(priority_classes);
    RUN(level_triggered_ones_are_ended_on_the_bus);
    RUN(disabled_by_software);
    RUN(init_resets_it);
    RUN(destinations);
    RUN(interprocessor_interrupts);
    RUN(errors);
    RUN(lint_pins);
    RUN(timer_one_shot);
    RUN(timer_divides);
    RUN(timer_periodic);
    RUN(timer_storm);
    RUN(timer_deadline);
    RUN(mode_transitions);
    RUN(disabling_resets);
    RUN(x2apic_keeps_the_state);
    RUN(x2apic_registers);
    RUN(x2apic_sends);
    RUN(widths);
    return test_status();
}
