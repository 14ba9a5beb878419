/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of the I/O APIC (82093AA data sheet), with the i8254, the RTC and the UART as sources. */
#include "guest-tests/multiboot/platform/platform.h"

#define PINS         24u
#define VECTOR_EDGE  0x61u
#define VECTOR_LEVEL 0x62u
#define PERIOD_1_MS  1193u
#define SILENCE_US   300u

#define UART_IER      0x3f9u
#define UART_IIR      0x3fau
#define UART_IER_THRE 0x02u

#define RTC_A       0x0au
#define RTC_B       0x0bu
#define RTC_C       0x0cu
#define RTC_B_PIE   0x40u
#define RTC_1024_HZ 0x26u

/* 3.2.2: 24 pins, version 0x11 or later. */
static const char *version(void)
{
    uint32_t value = ioapic_read(IOAPIC_VERSION);

    EXPECT((value & 0xff) >= 0x11 && (value & 0xff) < 0x80, "the version");
    EXPECT_EQ(ioapic_pins(), PINS, "the number of pins");
    return NULL;
}

/* 3.2.4: each entry holds what is written, but for its two read-only bits. */
static const char *registers(void)
{
    const uint32_t low = ENTRY_MASKED | ENTRY_LEVEL | ENTRY_LOGICAL | ENTRY_LOW;

    for (unsigned pin = 0; pin < PINS; pin++) {
        ioapic_write(IOAPIC_ENTRY(pin), low | ENTRY_REMOTE_IRR | ENTRY_DELIVERY | (0x40 + pin));
        ioapic_write(IOAPIC_ENTRY(pin) + 1, (0x80 + pin) << 24);
    }
    for (unsigned pin = 0; pin < PINS; pin++) {
        EXPECT_EQ(ioapic_read(IOAPIC_ENTRY(pin)), low | (0x40 + pin), "the lower half of an entry");
        EXPECT_EQ(ioapic_read(IOAPIC_ENTRY(pin) + 1) & 0xff000000, (0x80 + pin) << 24,
                  "the upper half of an entry");
    }
    return NULL;
}

/* The i8254 at the pin that the MADT's override says, edge triggered; masked it is silent. */
static const char *pit(void)
{
    unsigned pin = ioapic_pin(0);

    pit_set(0, 2, PERIOD_1_MS);
    ioapic_route(pin, cpus[0].apic_id, ENTRY_MASKED | VECTOR_EDGE);
    listen_us(3000);
    EXPECT_EQ(cpus[0].counts[VECTOR_EDGE], 0, "a masked pin interrupts");
    ioapic_route(pin, cpus[0].apic_id, VECTOR_EDGE);
    EXPECT(wait_count(VECTOR_EDGE, 5, BOUND_US), "the i8254 does not interrupt");
    ioapic_write(IOAPIC_ENTRY(pin), ENTRY_MASKED | VECTOR_EDGE);
    listen_us(50);
    uint32_t before = cpus[0].counts[VECTOR_EDGE];
    listen_us(3000);
    EXPECT_EQ(cpus[0].counts[VECTOR_EDGE], before, "masking does not stop it");
    return NULL;
}

/* 3.2.4, "destination": logical, and lowest priority among those that it names. */
static const char *logical(void)
{
    unsigned pin = ioapic_pin(0);

    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 0x01000000);
    pit_set(0, 2, PERIOD_1_MS);
    ioapic_route(pin, 0x03, ENTRY_LOGICAL | VECTOR_EDGE);
    EXPECT(wait_count(VECTOR_EDGE, 2, BOUND_US), "fixed, logical destination");
    ioapic_route(pin, 0x03, ENTRY_LOGICAL | ICR_LOWEST | VECTOR_LEVEL);
    EXPECT(wait_count(VECTOR_LEVEL, 2, BOUND_US), "lowest priority, logical destination");
    ioapic_route(pin, 0x02, ENTRY_LOGICAL | VECTOR_EDGE);
    listen_us(50);
    uint32_t before = cpus[0].counts[VECTOR_EDGE];
    listen_us(3000);
    EXPECT_EQ(cpus[0].counts[VECTOR_EDGE], before,
              "what is for a logical destination of nobody came");
    return NULL;
}

static void read_c(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    (void)cmos_read(RTC_C);
    acknowledge(vector);
}

/* The RTC at pin 8. */
static const char *rtc(void)
{
    set_handler(VECTOR_EDGE, read_c);
    ioapic_route(ioapic_pin(8), cpus[0].apic_id, VECTOR_EDGE);
    cmos_write(RTC_A, RTC_1024_HZ);
    (void)cmos_read(RTC_C);
    cmos_write(RTC_B, (uint8_t)(cmos_read(RTC_B) | RTC_B_PIE));
    EXPECT(wait_count(VECTOR_EDGE, 5, BOUND_US), "the RTC does not interrupt");
    return NULL;
}

/* Delivery mode NMI: no vector, no IRR, not masked by IF. */
static const char *nmi(void)
{
    ioapic_route(ioapic_pin(0), cpus[0].apic_id, ICR_NMI);
    pit_set(0, 0, 120);
    EXPECT(WAIT_UNTIL(cpus[0].counts[VECTOR_NMI] == 1, BOUND_US),
           "no NMI with interrupts disabled");
    spin_us(1000);
    EXPECT_EQ(cpus[0].counts[VECTOR_NMI], 1, "NMIs of one edge");
    return NULL;
}

static bool remote_irr(unsigned pin)
{
    return (ioapic_read(IOAPIC_ENTRY(pin)) & ENTRY_REMOTE_IRR) != 0;
}

static unsigned level_pin;
static bool remote_in_service, remote_after_eoi;

/* The first time the source is left as it is, the second time it is served. */
static void serve_second(struct cpu *cpu, unsigned vector)
{
    remote_in_service = remote_irr(level_pin);
    if (cpu->counts[vector] == 2) {
        (void)inb(UART_IIR);
        outb(UART_IER, 0);
    }
    acknowledge(vector);
    remote_after_eoi = remote_irr(level_pin);
}

/* 3.2.4, "trigger mode", with the UART's transmitter, whose line is high until it is served: remote
 * IRR from acceptance to EOI; a line that is still high at the EOI interrupts again. */
static const char *level(void)
{
    level_pin = ioapic_pin(4);
    set_handler(VECTOR_LEVEL, serve_second);
    ioapic_route(level_pin, cpus[0].apic_id, ENTRY_LEVEL | VECTOR_LEVEL);
    outb(UART_IER, UART_IER_THRE);
    EXPECT(wait_count(VECTOR_LEVEL, 1, BOUND_US), "a line that is high does not interrupt");
    EXPECT(remote_in_service, "remote IRR is not set in service");
    EXPECT(wait_count(VECTOR_LEVEL, 2, BOUND_US),
           "no second interrupt although the line is still high");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_LEVEL], 2, "interrupts until the line was low");
    EXPECT(!remote_after_eoi, "remote IRR is still set after the EOI");
    return NULL;
}

static const char *receive_elsewhere(struct cpu *cpu)
{
    EXPECT(cpu_start(cpu), "the other processor does not start");
    pit_set(0, 2, PERIOD_1_MS);
    ioapic_route(ioapic_pin(0), cpu->apic_id, VECTOR_EDGE);
    EXPECT(WAIT_UNTIL(cpu->counts[VECTOR_EDGE] >= 5, BOUND_US),
           "the other processor gets no interrupts");
    ioapic_route(ioapic_pin(0), 0, ENTRY_MASKED);
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_EDGE], 0, "the first processor got some as well");
    return NULL;
}

/* 3.2.4, "destination": another processor. */
static const char *destination(void)
{
    if (cpu_count < 2)
        return skip("one processor");
    const char *why = receive_elsewhere(&cpus[1]);
    cpu_init(&cpus[1]);
    return why;
}

const struct check ioapic_checks[] = {
    {"ioapic-version", version, false},
    {"ioapic-registers", registers, false},
    {"ioapic-pit", pit, false},
    {"ioapic-logical", logical, false},
    {"ioapic-rtc", rtc, false},
    {"ioapic-nmi", nmi, false},
    {"ioapic-level", level, false},
    {"ioapic-destination", destination, false},
    {0},
};
