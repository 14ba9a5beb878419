/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interrupt controllers wired together: ways that systems use on their way from the i8259s to
 * several processors, and then random traffic against a model. The model keeps plain sets, knows no
 * registers, and recomputes all it is asked from them.
 */
#include "hv/dev/interrupts.h"

#include <string.h>

#include "tests/host/test.h"

static struct interrupts interrupts;
static uint64_t now;
static bool told[VCPUS_MAX];

static uint64_t guest_now(void *context)
{
    (void)context;
    return now;
}

static void notify(void *context, unsigned cpu)
{
    (void)context;
    told[cpu] = true;
}

static struct lapic_page pages[VCPUS_MAX];
static const struct devices_host host = {.now = guest_now, .notify = notify};

static void reset(unsigned cpus)
{
    now = 0;
    interrupts_init(
        &interrupts,
        &(struct interrupts_config){
            .cpus = cpus, .pages = pages, .apic_ratio = 1, .physical_bits = 40, .host = &host});
    memset(told, 0, sizeof(told));
}

static void lapic_out(unsigned cpu, unsigned offset, uint32_t value)
{
    CHECK(interrupts_write_lapic(&interrupts, cpu, gpa(0xfee00000 + offset), 4, value),
          "local APIC of %u", cpu);
}

static uint32_t lapic_in(unsigned cpu, unsigned offset)
{
    uint64_t value = 0;

    CHECK(interrupts_read_lapic(&interrupts, cpu, gpa(0xfee00000 + offset), 4, &value),
          "local APIC of %u", cpu);
    return (uint32_t)value;
}

static void ioapic_entry(unsigned pin, uint32_t high, uint32_t low)
{
    interrupts_write_ioapic(&interrupts, 0x00, 4, 0x11 + 2 * pin);
    interrupts_write_ioapic(&interrupts, 0x10, 4, high);
    interrupts_write_ioapic(&interrupts, 0x00, 4, 0x10 + 2 * pin);
    interrupts_write_ioapic(&interrupts, 0x10, 4, low);
}

static void line(unsigned gsi, bool level)
{
    interrupts_set_line(&interrupts, gsi, level);
}

static void pic_out(uint16_t port, uint8_t value)
{
    interrupts_write_pics(&interrupts, port, value);
}

static void setup_pics(void)
{
    pic_out(0x20, 0x11), pic_out(0x21, 0x30), pic_out(0x21, 4), pic_out(0x21, 1);
    pic_out(0xa0, 0x11), pic_out(0xa1, 0x38), pic_out(0xa1, 2), pic_out(0xa1, 1);
}

static void expect(unsigned cpu, int vector, const char *what)
{
    int pending = interrupts_pending(&interrupts, cpu);

    CHECK(pending == vector, "%s: processor %u has %d", what, cpu, pending);
    CHECK(interrupts_take(&interrupts, cpu) == pending, "%s: it takes what it has", what);
}

/* --- ways of systems -------------------------------------------------------------------------- */

/* As firmware leaves it: the i8259s interrupt processor 0, past its local APIC. */
static void virtual_wire_mode(void)
{
    reset(2);
    setup_pics();
    line(4, true);
    CHECK(told[0] && !told[1], "processor 0 is told");
    expect(1, INTERRUPT_NONE, "the other");
    expect(0, 0x34, "IRQ 4");
    expect(0, INTERRUPT_NONE, "taken");
    CHECK(lapic_in(0, 0x110) == 0, "the local APIC has nothing in service");
    pic_out(0x20, 0x20);
    line(12, true);
    lapic_out(0, 0x80, 0xff);
    expect(0, 0x3c, "TPR holds no ExtINT back");
    pic_out(0xa0, 0x20), pic_out(0x20, 0x20);
    lapic_out(0, 0x350, 0x10700);
    lapic_out(1, 0xf0, 0x1ff);
    lapic_out(1, 0x350, 0x700);
    line(3, true);
    expect(0, INTERRUPT_NONE, "LINT0 is masked");
    expect(1, INTERRUPT_NONE, "INTR is wired to processor 0 alone");
    lapic_out(0, 0x350, 0x700);
    expect(0, 0x33, "LINT0 is unmasked");
}

static void apic_globally_disabled(void)
{
    reset(1);
    setup_pics();
    CHECK(interrupts_write_msr(&interrupts, 0, 0x1b, 0xfee00100), "disable");
    line(1, true);
    expect(0, 0x31, "INTR");
    uint64_t value;
    CHECK(!interrupts_read_lapic(&interrupts, 0, gpa(0xfee00020), 4, &value), "no registers");
}

/* LINT0 as a fixed interrupt: one of Linux' ways to find a timer. */
static void lint0_fixed(void)
{
    reset(1);
    setup_pics();
    pic_out(0x21, 0xfe);
    lapic_out(0, 0x350, 0x55);
    line(0, true);
    expect(0, 0x55, "the local APIC's vector");
    expect(0, INTERRUPT_NONE, "an edge");
}

/* ExtINT through pin 0 of the I/O APIC, to another processor. */
static void extint_by_the_ioapic(void)
{
    reset(3);
    setup_pics();
    lapic_out(0, 0x350, 0x10700);
    ioapic_entry(0, 0x02000000, 0x0700);
    line(4, true);
    CHECK(told[2] && !told[0], "processor 2 is told");
    expect(0, INTERRUPT_NONE, "not processor 0");
    expect(2, 0x34, "processor 2");
    pic_out(0x20, 0x20);
    line(5, true);
    memset(told, 0, sizeof(told));
    ioapic_entry(0, 0x01000000, 0x0700);
    CHECK(told[1], "it is told where INTR leads to now");
    expect(1, 0x35, "processor 1");
    pic_out(0x20, 0x20);
    ioapic_entry(0, 0x01000000, 0x0066);
    lapic_out(1, 0xf0, 0x1ff);
    line(6, true);
    expect(1, 0x66, "pin 0 as a fixed one");
}

/* GSI 0 is pin 2, the others their own number; those from 16 on have no i8259 input. */
static void gsis_are_pins(void)
{
    reset(1);
    for (unsigned pin = 0; pin < 24; pin++)
        ioapic_entry(pin, 0, 0x40 + pin);
    for (unsigned gsi = 0; gsi < 32; gsi++) {
        line(gsi, true);
        int vector = gsi == 0 ? 0x42 : gsi == 2 || gsi > 23 ? INTERRUPT_NONE : (int)(0x40 + gsi);
        expect(0, vector, "its vector");
        lapic_out(0, 0xb0, 0);
    }
    CHECK(interrupts.pics.chip[0].lines == 0xfb && interrupts.pics.chip[1].lines == 0xff, "ISA");
}

/* A level-triggered device: taken, ended while asserted, taken again. */
static void level_until_it_falls(void)
{
    reset(2);
    lapic_out(1, 0xf0, 0x1ff);
    ioapic_entry(17, 0x01000000, 0x8061);
    line(17, true);
    for (unsigned i = 0; i < 3; i++) {
        expect(1, 0x61, "asserted");
        expect(1, INTERRUPT_NONE, "until EOI");
        lapic_out(1, 0xb0, 0);
    }
    expect(1, 0x61, "the last");
    line(17, false);
    lapic_out(1, 0xb0, 0);
    expect(1, INTERRUPT_NONE, "it has fallen");
}

/* A level-triggered interrupt waits for a local APIC that is not enabled yet. */
static void level_waits_for_its_processor(void)
{
    reset(2);
    ioapic_entry(17, 0x01000000, 0x8061);
    line(17, true);
    expect(1, INTERRUPT_NONE, "not enabled");
    lapic_out(1, 0xf0, 0x1ff);
    expect(1, 0x61, "enabled");
}

/* INIT and SIPI as systems start processors. */
static void starting_processors(void)
{
    uint8_t page = 0;

    reset(4);
    lapic_out(0, 0x300, 0xc4500);
    CHECK(!told[0] && told[1] && told[2] && told[3], "INIT to all others");
    lapic_out(0, 0x310, 0x02000000);
    lapic_out(0, 0x300, 0x8500);
    lapic_out(0, 0x300, 0x4698);
    lapic_out(0, 0x300, 0x4699);
    lapic_out(2, 0x80, 0x50);
    CHECK(interrupts_take_start(&interrupts, 2, &page) == APIC_START_INIT, "INIT first");
    CHECK(lapic_in(2, 0x80) == 0, "it has reset the local APIC");
    CHECK(interrupts_take_start(&interrupts, 2, &page) == APIC_START_SIPI && page == 0x99, "SIPI");
    CHECK(interrupts_take_start(&interrupts, 2, &page) == APIC_START_NONE, "no more");
    CHECK(interrupts_take_start(&interrupts, 1, &page) == APIC_START_INIT, "INIT");
    CHECK(interrupts_take_start(&interrupts, 1, &page) == APIC_START_NONE, "no SIPI");
    CHECK(interrupts_take_start(&interrupts, 0, &page) == APIC_START_NONE, "not itself");
    lapic_out(2, 0x300, 0xc4400);
    CHECK(interrupts_take_nmi(&interrupts, 0) && interrupts_take_nmi(&interrupts, 3) &&
              !interrupts_take_nmi(&interrupts, 2) && !interrupts_take_nmi(&interrupts, 0),
          "NMI to all others, once");
}

static void resets(void)
{
    reset(2);
    setup_pics();
    ioapic_entry(5, 0, 0x8050);
    line(5, true);
    lapic_out(1, 0x300, 0x4400);
    interrupts_reset(&interrupts);
    expect(0, INTERRUPT_NONE, "nothing is left");
    CHECK(!interrupts_take_nmi(&interrupts, 1), "nor an NMI");
    ioapic_entry(5, 0, 0x8050);
    expect(0, 0x50, "wires keep their levels");
}

static void task_priority_and_msrs(void)
{
    uint64_t value = 0;

    reset(1);
    interrupts_set_tpr(&interrupts, 0, 0x50);
    CHECK(lapic_in(0, 0x80) == 0x50 && interrupts_tpr(&interrupts, 0) == 0x50, "TPR");
    CHECK(interrupts_has_msr(0x1b) && interrupts_has_msr(0x6e0) && interrupts_has_msr(0x800) &&
              interrupts_has_msr(0x8ff) && !interrupts_has_msr(0x900) && !interrupts_has_msr(0x7ff),
          "which MSRs");
    CHECK(interrupts_read_msr(&interrupts, 0, 0x1b, &value) && value == 0xfee00900, "base");
    CHECK(!interrupts_read_msr(&interrupts, 0, 0x802, &value), "x2APIC's: #GP");
    lapic_out(0, 0x320, 0x40070);
    CHECK(interrupts_write_msr(&interrupts, 0, 0x6e0, 500), "deadline");
    CHECK(interrupts_next_event(&interrupts, 0) == 500, "event");
    now = 500;
    interrupts_tick(&interrupts, 0);
    expect(0, 0x70, "the timer");
}

/* --- random traffic against a model ----------------------------------------------------------- */

#define CPUS       20u
#define PINS       24u
#define OPERATIONS 100000u

static struct {
    struct {
        bool requested[256], in_service[256], by_level[256];
        bool x2apic, enabled, nmi;
        bool logical_in[8]; /* members of its logical ID, in flat mode */
        unsigned cluster;   /* in cluster mode, with members 0 to 3 of the above */
        bool flat;
        unsigned tpr;
    } cpu[CPUS];
    struct {
        bool high, masked, level_triggered, unended;
        unsigned vector, mode; /* 0: fixed, 1: lowest priority, 4: NMI */
        bool logical;
        unsigned destination;
    } pin[PINS];
    unsigned next_of_equals;
} model;

static uint64_t seed;

static unsigned below(unsigned n)
{
    return (unsigned)(test_random(&seed) % n);
}

static bool one_in(unsigned n)
{
    return below(n) == 0;
}

static int model_highest(const bool *set)
{
    for (int v = 255; v >= 0; v--) {
        if (set[v])
            return v;
    }
    return -1;
}

static unsigned model_priority(unsigned cpu)
{
    int top = model_highest(model.cpu[cpu].in_service);
    unsigned service = top < 0 ? 0 : (unsigned)top / 16 * 16;

    return model.cpu[cpu].tpr / 16 * 16 >= service ? model.cpu[cpu].tpr : service;
}

static int model_pending(unsigned cpu)
{
    int top = model_highest(model.cpu[cpu].requested);

    return top >= 0 && (unsigned)top / 16 > model_priority(cpu) / 16 ? top : -1;
}

struct model_message {
    bool everybody, logical, level;
    unsigned destination, mode, vector;
    int except;
};

static bool model_is_for(unsigned cpu, const struct model_message *m)
{
    if ((int)cpu == m->except)
        return false;
    if (m->everybody)
        return true;
    if (!m->logical)
        return m->destination == cpu;
    if (model.cpu[cpu].x2apic)
        return m->destination / 65536 == cpu / 16 && (m->destination % 65536 >> cpu % 16) % 2;
    if (m->destination > 255)
        return false;
    if (!model.cpu[cpu].flat && m->destination / 16 != 15 &&
        m->destination / 16 != model.cpu[cpu].cluster)
        return false;
    for (unsigned bit = 0; bit < (model.cpu[cpu].flat ? 8 : 4); bit++) {
        if ((m->destination >> bit) % 2 && model.cpu[cpu].logical_in[bit])
            return true;
    }
    return false;
}

static bool model_accept(unsigned cpu, const struct model_message *m)
{
    if (m->mode == 4) {
        model.cpu[cpu].nmi = true;
        return true;
    }
    if (!model.cpu[cpu].enabled)
        return false;
    if (m->vector >= 16) {
        model.cpu[cpu].requested[m->vector] = true;
        model.cpu[cpu].by_level[m->vector] = m->level;
    }
    return true;
}

static bool model_send(const struct model_message *m)
{
    bool accepted = false;
    int best = -1;

    for (unsigned i = 0; i < CPUS; i++) {
        unsigned cpu = m->mode == 1 ? (model.next_of_equals + i) % CPUS : i;
        if (!model_is_for(cpu, m))
            continue;
        if (m->mode != 1)
            accepted = model_accept(cpu, m) || accepted;
        else if (model.cpu[cpu].enabled &&
                 (best < 0 || model_priority(cpu) < model_priority((unsigned)best)))
            best = (int)cpu;
    }
    if (best < 0)
        return accepted;
    model.next_of_equals = ((unsigned)best + 1) % CPUS;
    return model_accept((unsigned)best, m);
}

static bool model_is_level(unsigned pin)
{
    return model.pin[pin].level_triggered && model.pin[pin].mode <= 1;
}

static bool model_send_pin(unsigned pin)
{
    const struct model_message m = {
        .everybody = model.pin[pin].destination == 255,
        .logical = model.pin[pin].logical,
        .level = model_is_level(pin),
        .destination = model.pin[pin].destination,
        .mode = model.pin[pin].mode,
        .vector = model.pin[pin].vector,
        .except = -1,
    };

    return model_send(&m);
}

static void model_look_at_level(unsigned pin)
{
    if (model_is_level(pin) && model.pin[pin].high && !model.pin[pin].masked &&
        !model.pin[pin].unended)
        model.pin[pin].unended = model_send_pin(pin);
}

/* Operations: each does the same to both. */

static void random_line(void)
{
    unsigned gsi = below(PINS);
    bool high = one_in(2);

    if (gsi == 0 || gsi == 2) /* pin 0 is the i8259s', which are masked */
        return;
    bool rises = high && !model.pin[gsi].high;
    line(gsi, high);
    model.pin[gsi].high = high;
    if (model_is_level(gsi))
        model_look_at_level(gsi);
    else if (rises && !model.pin[gsi].masked)
        model_send_pin(gsi);
}

/* Few vectors, so that they meet; now and then an illegal one. */
static unsigned random_vector(void)
{
    return one_in(50) ? below(16) : 0x20 + below(14) * 16 + below(3);
}

static unsigned random_mode(void)
{
    static const unsigned modes[] = {0, 0, 0, 1, 1, 4};

    return modes[below(6)];
}

static unsigned random_destination(void)
{
    return one_in(8) ? 255 : one_in(2) ? below(CPUS) : below(256);
}

/* The halves are written high first: the old low half meets the new destination for a moment, which
 * the masked bit hides. */
static void random_entry(void)
{
    unsigned pin = below(PINS), mode = random_mode(), vector = random_vector();
    unsigned destination = random_destination();
    bool logical = one_in(2), level = one_in(2), masked = one_in(6);

    if (pin == 0)
        return;
    interrupts_write_ioapic(&interrupts, 0x00, 4, 0x10 + 2 * pin);
    interrupts_write_ioapic(&interrupts, 0x10, 4,
                            0x10000u | model.pin[pin].vector | model.pin[pin].mode << 8 |
                                (model.pin[pin].level_triggered ? 0x8000u : 0));
    ioapic_entry(pin, destination << 24,
                 vector | mode << 8 | (logical ? 0x800u : 0) | (level ? 0x8000u : 0) |
                     (masked ? 0x10000u : 0));
    model.pin[pin].vector = vector;
    model.pin[pin].mode = mode;
    model.pin[pin].logical = logical;
    model.pin[pin].destination = destination;
    model.pin[pin].level_triggered = level;
    model.pin[pin].masked = masked;
    if (!model_is_level(pin))
        model.pin[pin].unended = false;
    model_look_at_level(pin);
}

static void write_register(unsigned cpu, unsigned number, uint32_t value)
{
    if (model.cpu[cpu].x2apic)
        CHECK(interrupts_write_msr(&interrupts, cpu, 0x800 + number, value), "MSR 0x%x", number);
    else
        lapic_out(cpu, number << 4, value);
}

static uint32_t read_register(unsigned cpu, unsigned number)
{
    uint64_t value = 0;

    if (!model.cpu[cpu].x2apic)
        return lapic_in(cpu, number << 4);
    CHECK(interrupts_read_msr(&interrupts, cpu, 0x800 + number, &value), "MSR 0x%x", number);
    return (uint32_t)value;
}

static void random_ipi(unsigned cpu)
{
    unsigned shorthand = one_in(2) ? 0 : below(4), mode = random_mode(), vector = random_vector();
    unsigned destination = random_destination();
    bool logical = one_in(2), x2apic = model.cpu[cpu].x2apic;

    if (x2apic && one_in(2))
        destination = logical ? below(3) << 16 | below(65536) : below(300);
    if (x2apic && one_in(8))
        destination = 0xffffffff;
    uint32_t low = vector | mode << 8 | (logical ? 0x800u : 0) | shorthand << 18;
    if (x2apic) {
        CHECK(interrupts_write_msr(&interrupts, cpu, 0x830, (uint64_t)destination << 32 | low),
              "ICR");
    } else {
        lapic_out(cpu, 0x310, destination << 24);
        lapic_out(cpu, 0x300, low);
    }
    struct model_message m = {
        .everybody = shorthand >= 2 || destination == (x2apic ? 0xffffffff : 255),
        .logical = logical,
        .destination = destination,
        .mode = mode,
        .vector = vector,
        .except = shorthand == 3 ? (int)cpu : -1,
    };
    if ((shorthand == 1 || shorthand == 2) && mode != 0)
        return;
    if (mode <= 1 && vector < 16)
        return;
    if (shorthand == 1)
        model_accept(cpu, &m);
    else
        model_send(&m);
}

static void random_take(unsigned cpu)
{
    int vector = model_pending(cpu);

    CHECK(interrupts_take(&interrupts, cpu) == vector, "take");
    if (vector < 0)
        return;
    model.cpu[cpu].requested[vector] = false;
    model.cpu[cpu].in_service[vector] = true;
}

static void random_eoi(unsigned cpu)
{
    int vector = model_highest(model.cpu[cpu].in_service);

    write_register(cpu, 0x0b, 0);
    if (vector < 0)
        return;
    model.cpu[cpu].in_service[vector] = false;
    for (unsigned pin = 0; pin < PINS && model.cpu[cpu].by_level[vector]; pin++) {
        if (!model.pin[pin].unended || model.pin[pin].vector != (unsigned)vector)
            continue;
        model.pin[pin].unended = false;
        model_look_at_level(pin);
    }
}

static void random_tpr(unsigned cpu)
{
    unsigned tpr = one_in(3) ? below(256) : 0;

    if (one_in(2))
        write_register(cpu, 0x08, tpr);
    else
        interrupts_set_tpr(&interrupts, cpu, (uint8_t)tpr);
    model.cpu[cpu].tpr = tpr;
}

/* What was accepted by nobody is tried again when a local APIC has changed. */
static void random_change(unsigned cpu)
{
    if (one_in(2) || model.cpu[cpu].x2apic) {
        model.cpu[cpu].enabled = !one_in(4);
        write_register(cpu, 0x0f, 0xff | (model.cpu[cpu].enabled ? 0x100 : 0));
    } else if (one_in(2)) {
        unsigned id = below(256);
        for (unsigned bit = 0; bit < 8; bit++)
            model.cpu[cpu].logical_in[bit] = (id >> bit) % 2;
        model.cpu[cpu].cluster = id / 16;
        lapic_out(cpu, 0x0d0, id << 24);
    } else {
        model.cpu[cpu].flat = one_in(2);
        lapic_out(cpu, 0x0e0, model.cpu[cpu].flat ? 0xffffffff : 0x0fffffff);
    }
    for (unsigned pin = 0; pin < PINS; pin++)
        model_look_at_level(pin);
}

static void random_operation(void)
{
    unsigned cpu = below(CPUS);

    switch (below(16)) {
    case 0:
    case 1:
    case 2:
        random_line();
        return;
    case 3:
        random_entry();
        return;
    case 4:
    case 5:
        random_ipi(cpu);
        return;
    case 6:
        random_tpr(cpu);
        return;
    case 7:
        if (one_in(8))
            random_change(cpu);
        return;
    case 8:
        CHECK(interrupts_take_nmi(&interrupts, cpu) == model.cpu[cpu].nmi, "NMI");
        model.cpu[cpu].nmi = false;
        return;
    case 9:
    case 10:
    case 11:
        random_take(cpu);
        return;
    default:
        random_eoi(cpu);
        return;
    }
}

static void check_set(unsigned cpu, unsigned number, const bool *set, const char *name)
{
    for (unsigned word = 0; word < 8; word++) {
        uint32_t expected = 0;
        for (unsigned bit = 0; bit < 32; bit++)
            expected |= (uint32_t)set[word * 32 + bit] << bit;
        uint32_t got = read_register(cpu, number + word);
        CHECK(got == expected, "%s %u of processor %u: 0x%x, not 0x%x", name, word, cpu, got,
              expected);
    }
}

static void check_registers(void)
{
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        check_set(cpu, 0x10, model.cpu[cpu].in_service, "ISR");
        check_set(cpu, 0x18, model.cpu[cpu].by_level, "TMR");
        check_set(cpu, 0x20, model.cpu[cpu].requested, "IRR");
        CHECK(read_register(cpu, 0x0a) == model_priority(cpu), "PPR of processor %u", cpu);
    }
    for (unsigned pin = 1; pin < PINS; pin++) {
        interrupts_write_ioapic(&interrupts, 0x00, 4, 0x10 + 2 * pin);
        bool unended = interrupts_read_ioapic(&interrupts, 0x10, 4) & 0x4000;
        CHECK(unended == model.pin[pin].unended, "remote IRR of pin %u", pin);
    }
}

static void begin_traffic(void)
{
    reset(CPUS);
    memset(&model, 0, sizeof(model));
    for (unsigned pin = 0; pin < PINS; pin++)
        model.pin[pin].masked = true;
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        model.cpu[cpu].flat = true;
        model.cpu[cpu].enabled = true;
        lapic_out(cpu, 0xf0, 0x1ff);
        model.cpu[cpu].x2apic = one_in(3);
        if (model.cpu[cpu].x2apic)
            interrupts_write_msr(&interrupts, cpu, 0x1b, 0xfee00c00 | (cpu == 0 ? 0x100 : 0));
    }
}

static void random_traffic_agrees_with_the_model(void)
{
    unsigned taken = 0;

    seed = 1;
    for (unsigned i = 0; i < OPERATIONS && !test_failed_now; i++) {
        bool had[CPUS];
        if (i % 10000 == 0)
            begin_traffic();
        for (unsigned cpu = 0; cpu < CPUS; cpu++)
            had[cpu] = model_pending(cpu) >= 0 || model.cpu[cpu].nmi;
        memset(told, 0, sizeof(told));
        random_operation();
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            int vector = model_pending(cpu);
            CHECK(interrupts_pending(&interrupts, cpu) == vector,
                  "operation %u: processor %u has %d, not %d", i, cpu,
                  interrupts_pending(&interrupts, cpu), vector);
            CHECK(interrupts.lapic[cpu].nmi == model.cpu[cpu].nmi, "operation %u: NMI", i);
            bool has = vector >= 0 || model.cpu[cpu].nmi;
            CHECK(told[cpu] || had[cpu] || !has, "operation %u: %u was not told", i, cpu);
            taken += has;
        }
        if (i % 100 == 0)
            check_registers();
    }
    CHECK(taken > OPERATIONS, "the traffic must be one: %u", taken);
}

int main(void)
{
    RUN(virtual_wire_mode);
    RUN(apic_globally_disabled);
    RUN(lint0_fixed);
    RUN(extint_by_the_ioapic);
    RUN(gsis_are_pins);
    RUN(level_until_it_falls);
    RUN(level_waits_for_its_processor);
    RUN(starting_processors);
    RUN(resets);
    RUN(task_priority_and_msrs);
    RUN(random_traffic_agrees_with_the_model);
    return test_status();
}
