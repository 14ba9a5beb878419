/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of the two i8259s (8259A data sheet), with the i8254, the RTC and the UART as sources. */
#include "guest-tests/multiboot/platform/platform.h"

#define IRQ_PIT  0u
#define IRQ_UART 4u
#define IRQ_RTC  8u

#define ICW4_8086     0x01u
#define ICW4_AUTO_EOI 0x03u
#define OCW2_EOI      0x20u
#define OCW3_POLL     0x0cu
#define POLL_PENDING  0x80u

#define UART_IER      0x3f9u
#define UART_IIR      0x3fau
#define UART_IER_THRE 0x02u

#define RTC_A         0x0au
#define RTC_B         0x0bu
#define RTC_B_PIE     0x40u
#define RTC_C         0x0cu
#define RTC_A_1024_HZ 0x26u

#define PERIOD_1_MS 1193u
#define SILENCE_US  300u

/* The i8254's next interrupt in some 100 microseconds, once. */
static void raise_pit(void)
{
    pit_set(0, 0, 120);
}

/* The transmitter is idle, so enabling its interrupt raises it. */
static void raise_uart(void)
{
    outb(UART_IER, UART_IER_THRE);
}

static void lower_uart(void)
{
    (void)inb(UART_IIR);
    outb(UART_IER, 0);
}

static void raise_rtc(void)
{
    cmos_write(RTC_A, RTC_A_1024_HZ);
    (void)cmos_read(RTC_C);
    cmos_write(RTC_B, (uint8_t)(cmos_read(RTC_B) | RTC_B_PIE));
}

static bool irr_has(unsigned irq)
{
    return WAIT_UNTIL((pic_irr() >> irq & 1) != 0, BOUND_US);
}

/* OCW1: the mask registers read back; nothing is in service after ICW1 to ICW4. */
static const char *registers(void)
{
    pic_mask(0xa55a);
    EXPECT_EQ(inb(PIC_MASTER + 1), 0x5a, "the master's mask");
    EXPECT_EQ(inb(PIC_SLAVE + 1), 0xa5, "the slave's mask");
    pic_init(VECTOR_PIC, ICW4_8086);
    EXPECT_EQ(pic_isr(), 0, "ISR after initialisation");
    return NULL;
}

static void end_irq0(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    (void)vector;
    pic_eoi(IRQ_PIT);
}

/* ICW2: the vectors are where they were put. SDM 3A 10.5.1: the i8259s reach the processor through
 * LINT0 as ExtINT, and not if it is masked. */
static const char *irq0(void)
{
    const unsigned other_base = 0x50;

    pit_set(0, 2, PERIOD_1_MS);
    pic_unmask(IRQ_PIT);
    listen_us(3000);
    EXPECT_EQ(cpus[0].counts[VECTOR_PIC], 0, "IRQ 0 comes through a masked LINT0");
    pic_connect();
    EXPECT(wait_count(VECTOR_PIC, 5, BOUND_US), "IRQ 0 does not come at the vector of ICW2");
    set_handler(other_base, end_irq0);
    pic_init(other_base, ICW4_8086);
    pic_unmask(IRQ_PIT);
    EXPECT(wait_count(other_base, 5, BOUND_US),
           "IRQ 0 does not come at the vector of another ICW2");
    return NULL;
}

/* SDM 3A 10.4.3: with the local APIC globally disabled, or its LINT0 programmed so, INTR is the
 * i8259s' alone; the APIC's TPR does not hold ExtINT up (10.8.3.1: only fixed interrupts have a
 * priority). */
static const char *task_priority(void)
{
    pic_connect();
    apic_write(APIC_TPR, 0xf0);
    raise_pit();
    pic_unmask(IRQ_PIT);
    EXPECT(wait_count(VECTOR_PIC, 1, BOUND_US), "TPR holds ExtINT up");
    return NULL;
}

/* OCW1: a masked request waits in the IRR. */
static const char *mask(void)
{
    pic_connect();
    raise_pit();
    EXPECT(irr_has(IRQ_PIT), "the masked request is not in the IRR");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_PIC], 0, "a masked request came");
    pic_unmask(IRQ_PIT);
    EXPECT(wait_count(VECTOR_PIC, 1, BOUND_US), "unmasking does not let it through");
    EXPECT(!(pic_irr() & 1u << IRQ_PIT), "it is still in the IRR");
    return NULL;
}

static void leave_in_service(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    (void)vector;
}

/* OCW2, OCW3: in service until its end, and no other of its level meanwhile. */
static const char *in_service(void)
{
    pic_connect();
    set_handler(VECTOR_PIC + IRQ_PIT, leave_in_service);
    pit_set(0, 2, PERIOD_1_MS);
    pic_unmask(IRQ_PIT);
    EXPECT(wait_count(VECTOR_PIC, 1, BOUND_US), "IRQ 0 does not come");
    EXPECT_EQ(pic_isr(), 1u << IRQ_PIT, "ISR while in service");
    listen_us(3000);
    EXPECT_EQ(cpus[0].counts[VECTOR_PIC], 1, "IRQ 0 comes again without an EOI");
    outb(PIC_MASTER, OCW2_EOI);
    EXPECT_EQ(pic_isr(), 0, "ISR after a non-specific EOI");
    EXPECT(wait_count(VECTOR_PIC, 2, BOUND_US), "IRQ 0 does not come after the EOI");
    pic_eoi(IRQ_PIT);
    EXPECT_EQ(pic_isr(), 0, "ISR after a specific EOI");
    return NULL;
}

/* ICW4: with automatic EOI nothing stays in service. */
static const char *auto_eoi(void)
{
    pic_init(VECTOR_PIC, ICW4_AUTO_EOI);
    pic_connect();
    set_handler(VECTOR_PIC + IRQ_PIT, leave_in_service);
    pit_set(0, 2, PERIOD_1_MS);
    pic_unmask(IRQ_PIT);
    EXPECT(wait_count(VECTOR_PIC, 3, BOUND_US), "IRQ 0 does not come again");
    EXPECT_EQ(pic_isr(), 0, "ISR");
    return NULL;
}

static void end_uart(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    lower_uart();
    acknowledge(vector);
}

static void end_rtc(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    cmos_write(RTC_B, (uint8_t)(cmos_read(RTC_B) & ~RTC_B_PIE));
    (void)cmos_read(RTC_C);
    acknowledge(vector);
}

/* Fully nested mode: IRQ 0 before IRQ 8 (the cascade is on IR2) before IRQ 4. */
static const char *priority(void)
{
    static const uint8_t want[] = {VECTOR_PIC + IRQ_PIT, VECTOR_PIC + IRQ_RTC,
                                   VECTOR_PIC + IRQ_UART};

    set_handler(VECTOR_PIC + IRQ_UART, end_uart);
    set_handler(VECTOR_PIC + IRQ_RTC, end_rtc);
    pic_connect();
    raise_uart();
    EXPECT(irr_has(IRQ_UART), "IRQ 4 is not in the IRR");
    raise_rtc();
    EXPECT(irr_has(IRQ_RTC), "IRQ 8 is not in the slave's IRR");
    raise_pit();
    EXPECT(irr_has(IRQ_PIT), "IRQ 0 is not in the IRR");
    pic_mask((uint16_t) ~(1u << IRQ_PIT | 1u << IRQ_UART | 1u << PIC_CASCADE | 1u << IRQ_RTC));
    EXPECT(pic_irr() & 1u << PIC_CASCADE, "the slave's request is not in the master's IRR");
    EXPECT(wait_count(VECTOR_PIC + IRQ_UART, 1, BOUND_US), "IRQ 4 does not come");
    EXPECT_EQ(cpus[0].order_count, 3, "so many came");
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(cpus[0].order[i], want[i], "the order");
    return NULL;
}

static uint32_t nested_pit, nested_uart;
static uint16_t nested_isr;

/* In service of IRQ 4, with interrupts enabled. Only the first time: QEMU keeps the request that
 * nest_pit raises and lowers. */
static void nest_uart(struct cpu *cpu, unsigned vector)
{
    lower_uart();
    if (cpu->counts[vector] > 1) {
        acknowledge(vector);
        return;
    }
    raise_pit();
    nested_pit = wait_count(VECTOR_PIC + IRQ_PIT, 1, BOUND_US) ? cpu->counts[VECTOR_PIC] : 0;
    acknowledge(vector);
}

/* In service of IRQ 0, nested in IRQ 4's. */
static void nest_pit(struct cpu *cpu, unsigned vector)
{
    nested_isr = pic_isr();
    raise_uart();
    listen_us(SILENCE_US);
    nested_uart = cpu->counts[VECTOR_PIC + IRQ_UART];
    lower_uart();
    acknowledge(vector);
}

/* Fully nested mode: a higher level interrupts the service of a lower one, not the other way round.
 */
static const char *nesting(void)
{
    nested_pit = nested_uart = 0;
    set_handler(VECTOR_PIC + IRQ_UART, nest_uart);
    set_handler(VECTOR_PIC + IRQ_PIT, nest_pit);
    pic_connect();
    pic_mask((uint16_t) ~(1u << IRQ_PIT | 1u << IRQ_UART));
    raise_uart();
    EXPECT(wait_count(VECTOR_PIC + IRQ_UART, 1, BOUND_US), "IRQ 4 does not come");
    EXPECT_EQ(nested_pit, 1, "IRQ 0 while IRQ 4 is in service");
    EXPECT_EQ(nested_isr, 1u << IRQ_PIT | 1u << IRQ_UART, "ISR with both in service");
    EXPECT_EQ(nested_uart, 1, "IRQ 4 came while IRQ 0 was in service");
    return NULL;
}

/* OCW3's poll: an acknowledgement without the processor's. */
static const char *poll(void)
{
    raise_pit();
    EXPECT(irr_has(IRQ_PIT), "IRQ 0 is not in the IRR");
    pic_unmask(IRQ_PIT);
    outb(PIC_MASTER, OCW3_POLL);
    EXPECT_EQ(inb(PIC_MASTER), POLL_PENDING | IRQ_PIT, "the poll word of IRQ 0");
    EXPECT_EQ(pic_isr() & 0xffu, 1u << IRQ_PIT, "ISR after the poll");
    pic_eoi(IRQ_PIT);
    outb(PIC_MASTER, OCW3_POLL);
    EXPECT_EQ(inb(PIC_MASTER) & POLL_PENDING, 0, "a poll word with nothing pending");
    return NULL;
}

/* A request that goes away before its acknowledgement (data sheet, "spurious"): interrupt 7, which
 * is not in service, or nothing if INTR went away as well; never the request itself. */
static const char *spurious(void)
{
    if (on_qemu_tcg())
        return skip("QEMU keeps a request whose line went low");
    pic_connect();
    pic_mask((uint16_t) ~(1u << IRQ_UART | 1u << 7));
    raise_uart();
    EXPECT(irr_has(IRQ_UART), "IRQ 4 is not in the IRR");
    lower_uart();
    EXPECT(!(pic_irr() & 1u << IRQ_UART), "IRQ 4 is in the IRR although its line went low");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_PIC + IRQ_UART], 0, "IRQ 4 came although its line went low");
    EXPECT(cpus[0].counts[VECTOR_PIC + 7] <= 1, "interrupt 7 came more than once");
    EXPECT_EQ(pic_isr(), 0, "something is in service");
    raise_uart();
    set_handler(VECTOR_PIC + IRQ_UART, end_uart);
    EXPECT(wait_count(VECTOR_PIC + IRQ_UART, 1, BOUND_US), "IRQ 4 does not come any more");
    return NULL;
}

const struct check pic_checks[] = {
    {"pic-registers", registers, false},
    {"pic-irq0", irq0, false},
    {"pic-task-priority", task_priority, false},
    {"pic-mask", mask, false},
    {"pic-in-service", in_service, false},
    {"pic-auto-eoi", auto_eoi, false},
    {"pic-priority", priority, false},
    {"pic-nesting", nesting, false},
    {"pic-poll", poll, false},
    {"pic-spurious", spurious, false},
    {0},
};
