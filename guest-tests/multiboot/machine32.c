/* SPDX-License-Identifier: BSD-2-Clause */
/* See machine32.h. */
#include "guest-tests/multiboot/machine32.h"
#include "guest-tests/multiboot/selectors.h"

/* Where the trampoline is put for start-up IPIs: the page is theirs, below 1 MiB. */
#define TRAMPOLINE 0x8000u

#define IOAPIC_BASE   0xfec00000u
#define IOAPIC_WINDOW 0x10u

#define PIC_OCW2_SPECIFIC_EOI 0x60u
#define PIC_OCW3_READ_IRR     0x0au
#define PIC_OCW3_READ_ISR     0x0bu
#define PIC_ICW1              0x11u /* edge triggered, cascade, ICW4 follows */
#define PIC_SPURIOUS          7u

#define PORT_SYSTEM       0x61u
#define SYSTEM_GATE2      (1u << 0)
#define SYSTEM_SPEAKER    (1u << 1)
#define SYSTEM_OUT2       (1u << 5)
#define CALIBRATION_COUNT 11932u /* 10 ms */
#define SAMPLE_ATTEMPTS   8u
#define CALIBRATION_MAX   (1ull << 28) /* TSC ticks: 5 s at 50 MHz */

#define RTC_B         0x0bu
#define RTC_B_24H     0x02u
#define RTC_B_ENABLES 0x70u
#define RTC_C         0x0cu

#define UART 0x3f8u

#define GATE_INTERRUPT 0x8e00u

struct cpu cpus[CPUS_MAX];
uint32_t tsc_khz;

static uint8_t stacks[CPUS_MAX][STACK_SIZE] __attribute__((aligned(16)));
static uint64_t idt[VECTORS];
static vector_handler *handlers[VECTORS];

extern uint8_t interrupt_stubs[], trampoline[], trampoline_end[];

/* For the assembly. */
extern uint64_t gdt[GDT_ENTRIES];
extern struct cpu *volatile cpu_starting;
void interrupt(struct frame *frame);
void cpu_main(struct cpu *cpu);

uint64_t gdt[GDT_ENTRIES];
struct cpu *volatile cpu_starting;

_Static_assert(GDT_ENTRIES == 3 + CPUS_MAX, "a selector for each processor");
_Static_assert(offsetof(struct cpu, selector) == 4 && offsetof(struct cpu, stack_top) == 8,
               "machine32_entry.S has these offsets");

/* --- interrupts ---------------------------------------------------------------------------------
 */

static void unexpected(const struct frame *frame)
{
    put_text("FAIL exception ");
    put_number(frame->vector);
    put_text(", error code ");
    put_hex(frame->error_code);
    put_text(", at ");
    put_hex(frame->eip);
    put('\n');
    end(1);
}

void interrupt(struct frame *frame)
{
    struct cpu *cpu = this_cpu();
    unsigned vector = frame->vector;

    if (vector < VECTOR_PIC && vector != VECTOR_NMI) {
        if (!cpu->resume)
            unexpected(frame);
        cpu->fault_vector = vector;
        frame->eip = cpu->resume;
        cpu->resume = 0;
        return;
    }
    cpu->counts[vector]++;
    cpu->last_tsc[vector] = rdtsc();
    if (cpu->order_count < ORDER_MAX)
        cpu->order[cpu->order_count++] = (uint8_t)vector;
    if (handlers[vector])
        handlers[vector](cpu, vector);
    else
        acknowledge(vector);
}

void set_handler(unsigned vector, vector_handler *handler)
{
    handlers[vector] = handler;
}

void acknowledge(unsigned vector)
{
    unsigned irq = vector - VECTOR_PIC;

    if (vector == VECTOR_NMI || vector == VECTOR_SPURIOUS)
        return;
    if (irq < 16) {
        /* An interrupt 7 that is not in service was spurious, and has no end. */
        if (irq != PIC_SPURIOUS || (pic_isr() & 1u << irq))
            pic_eoi(irq);
        return;
    }
    apic_write(APIC_EOI, 0);
}

void counts_clear(struct cpu *cpu)
{
    for (unsigned i = 0; i < VECTORS; i++) {
        cpu->counts[i] = 0;
        cpu->last_tsc[i] = 0;
    }
    cpu->order_count = 0;
}

bool wait_count(unsigned vector, uint32_t count, uint32_t us)
{
    const struct cpu *cpu = this_cpu();

    interrupts_on();
    bool came = WAIT_UNTIL(cpu->counts[vector] >= count, us);
    interrupts_off();
    return came;
}

void listen_us(uint32_t us)
{
    interrupts_on();
    spin_us(us);
    interrupts_off();
}

bool wrmsr_faults(uint32_t msr, uint64_t value)
{
    struct cpu *cpu = this_cpu();

    cpu->fault_vector = 0;
    __asm__ volatile("movl $1f, %0\n\twrmsr\n1:\tmovl $0, %0"
                     : "+m"(cpu->resume)
                     : "A"(value), "c"(msr)
                     : "memory");
    return cpu->fault_vector == VECTOR_GP;
}

bool rdmsr_faults(uint32_t msr)
{
    struct cpu *cpu = this_cpu();
    uint64_t value;

    cpu->fault_vector = 0;
    __asm__ volatile("movl $1f, %0\n\trdmsr\n1:\tmovl $0, %0"
                     : "+m"(cpu->resume), "=A"(value)
                     : "c"(msr)
                     : "memory");
    return cpu->fault_vector == VECTOR_GP;
}

/* --- waiting ------------------------------------------------------------------------------------
 */

uint32_t divide(uint64_t a, uint32_t b)
{
    uint32_t low = (uint32_t)a, high = (uint32_t)(a >> 32);

    __asm__("divl %2" : "+a"(low), "+d"(high) : "rm"(b));
    return low;
}

uint32_t mul_div(uint32_t a, uint32_t b, uint32_t c)
{
    return divide((uint64_t)a * b, c);
}

uint64_t ticks_of_us(uint32_t us)
{
    return (uint64_t)(us / 1000) * tsc_khz + mul_div(us % 1000, tsc_khz, 1000);
}

void spin_us(uint32_t us)
{
    WAIT_UNTIL(false, us);
}

bool is_about(uint32_t value, uint32_t about, uint32_t percent)
{
    uint32_t slack = mul_div(about, percent, 100);

    return value >= about - slack && value - about + slack <= 2 * slack;
}

struct sample sample_counter(uint32_t (*read)(void))
{
    struct sample best = {0, 0};
    uint64_t shortest = ~0ull;

    for (unsigned attempt = 0; attempt < SAMPLE_ATTEMPTS; attempt++) {
        uint64_t before = rdtsc();
        uint32_t value = read();
        uint64_t took = rdtsc() - before;
        if (took < shortest) {
            shortest = took;
            best = (struct sample){before + took / 2, value};
        }
    }
    return best;
}

uint32_t counter_khz(uint32_t (*read)(void), uint32_t mask, uint32_t us)
{
    struct sample first = sample_counter(read);
    spin_us(us);
    struct sample last = sample_counter(read);

    return mul_div((last.value - first.value) & mask, tsc_khz, (uint32_t)(last.tsc - first.tsc));
}

uint32_t pit_elapsed(void)
{
    return 0u - pit_read(0);
}

static uint32_t measure_once(void)
{
    struct sample first = sample_counter(pit_elapsed), last;

    do {
        last = sample_counter(pit_elapsed);
        check(last.tsc - first.tsc < CALIBRATION_MAX, "the i8254's counter 0 does not count");
    } while (((last.value - first.value) & PIT_MASK) < CALIBRATION_COUNT);
    return mul_div((uint32_t)(last.tsc - first.tsc), PIT_HZ / 1000,
                   (last.value - first.value) & PIT_MASK);
}

/* Where an emulator is held up for so long that the i8254's 16 bits go round, the result is too
 * large: the smallest counts. */
static void measure_tsc(void)
{
    tsc_khz = 0xffffffff;
    pit_set(0, 2, 0);
    for (unsigned attempt = 0; attempt < 3; attempt++) {
        uint32_t khz = measure_once();
        tsc_khz = khz < tsc_khz ? khz : tsc_khz;
    }
    check(tsc_khz >= 1000, "the TSC does not run against the i8254");
}

/* --- local APIC ---------------------------------------------------------------------------------
 */

uint32_t apic_read(uint32_t reg)
{
    return this_cpu()->x2apic ? (uint32_t)rdmsr(MSR_X2APIC + (reg >> 4)) : read32(APIC_BASE + reg);
}

void apic_write(uint32_t reg, uint32_t value)
{
    if (this_cpu()->x2apic)
        wrmsr(MSR_X2APIC + (reg >> 4), value);
    else
        write32(APIC_BASE + reg, value);
}

bool apic_bit(uint32_t reg, unsigned vector)
{
    return (apic_read(reg + vector / 32 * 0x10) >> vector % 32 & 1) != 0;
}

bool apic_send(uint32_t destination, uint32_t command)
{
    if (this_cpu()->x2apic) {
        wrmsr(MSR_X2APIC + (APIC_ICR >> 4), (uint64_t)destination << 32 | command);
        return true;
    }
    if (!WAIT_UNTIL(!(apic_read(APIC_ICR) & ICR_PENDING), BOUND_US))
        return false;
    apic_write(APIC_ICR_HIGH, destination << 24);
    apic_write(APIC_ICR, command);
    return true;
}

static void apic_mask_all(void)
{
    apic_write(APIC_TPR, 0);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_LINT0, LVT_MASKED | LVT_EXTINT);
    apic_write(APIC_LVT_LINT1, LVT_MASKED | LVT_NMI);
    apic_write(APIC_LVT_ERROR, LVT_MASKED);
    apic_write(APIC_ESR, 0);
}

void apic_reset(struct cpu *cpu)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    uint64_t disabled = base & ~(uint64_t)(APIC_BASE_ENABLE | APIC_BASE_X2APIC);

    if (base & APIC_BASE_X2APIC)
        wrmsr(MSR_APIC_BASE, disabled);
    if ((base & APIC_BASE_X2APIC) || !(base & APIC_BASE_ENABLE))
        wrmsr(MSR_APIC_BASE, disabled | APIC_BASE_ENABLE);
    cpu->x2apic = false;
    apic_write(APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
    apic_mask_all();
}

/* Whatever is in service ends, whatever is pending comes. */
static void apic_drain(void)
{
    for (unsigned vector = VECTORS; vector-- > 0;) {
        if (apic_bit(APIC_ISR, vector))
            apic_write(APIC_EOI, 0);
    }
    interrupts_on();
    WAIT_UNTIL(!apic_read(APIC_IRR) && !apic_read(APIC_IRR + 0x10) && !apic_read(APIC_IRR + 0x20),
               50);
    interrupts_off();
}

/* --- I/O APIC -----------------------------------------------------------------------------------
 */

uint32_t ioapic_read(uint32_t reg)
{
    write32(IOAPIC_BASE, reg);
    return read32(IOAPIC_BASE + IOAPIC_WINDOW);
}

void ioapic_write(uint32_t reg, uint32_t value)
{
    write32(IOAPIC_BASE, reg);
    write32(IOAPIC_BASE + IOAPIC_WINDOW, value);
}

unsigned ioapic_pins(void)
{
    return (ioapic_read(IOAPIC_VERSION) >> 16 & 0xff) + 1;
}

void ioapic_route(unsigned pin, uint32_t destination, uint32_t low)
{
    ioapic_write(IOAPIC_ENTRY(pin), ENTRY_MASKED);
    ioapic_write(IOAPIC_ENTRY(pin) + 1, destination << 24);
    ioapic_write(IOAPIC_ENTRY(pin), low);
}

/* --- i8259s -------------------------------------------------------------------------------------
 */

void pic_init(unsigned base, uint8_t icw4)
{
    outb(PIC_MASTER, PIC_ICW1);
    outb(PIC_MASTER + 1, (uint8_t)base);
    outb(PIC_MASTER + 1, 1u << PIC_CASCADE);
    outb(PIC_MASTER + 1, icw4);
    outb(PIC_SLAVE, PIC_ICW1);
    outb(PIC_SLAVE + 1, (uint8_t)(base + 8));
    outb(PIC_SLAVE + 1, PIC_CASCADE);
    outb(PIC_SLAVE + 1, icw4);
    pic_mask(0xffff);
}

void pic_mask(uint16_t mask)
{
    outb(PIC_MASTER + 1, (uint8_t)mask);
    outb(PIC_SLAVE + 1, (uint8_t)(mask >> 8));
}

void pic_unmask(unsigned irq)
{
    uint16_t open = (uint16_t)(1u << irq | (irq >= 8 ? 1u << PIC_CASCADE : 0));

    pic_mask((uint16_t)~open);
}

static uint16_t pic_read(uint8_t ocw3)
{
    outb(PIC_MASTER, ocw3);
    outb(PIC_SLAVE, ocw3);
    return (uint16_t)(inb(PIC_MASTER) | inb(PIC_SLAVE) << 8);
}

uint16_t pic_irr(void)
{
    return pic_read(PIC_OCW3_READ_IRR);
}

uint16_t pic_isr(void)
{
    return pic_read(PIC_OCW3_READ_ISR);
}

void pic_eoi(unsigned irq)
{
    if (irq >= 8) {
        outb(PIC_SLAVE, (uint8_t)(PIC_OCW2_SPECIFIC_EOI | (irq - 8)));
        irq = PIC_CASCADE;
    }
    outb(PIC_MASTER, (uint8_t)(PIC_OCW2_SPECIFIC_EOI | irq));
}

void pic_connect(void)
{
    apic_write(APIC_LVT_LINT0, LVT_EXTINT);
}

/* --- i8254, RTC ---------------------------------------------------------------------------------
 */

void pit_set(unsigned channel, unsigned mode, uint16_t count)
{
    outb(0x43, (uint8_t)(channel << 6 | 3u << 4 | mode << 1));
    outb((uint16_t)(0x40 + channel), (uint8_t)count);
    outb((uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

uint16_t pit_read(unsigned channel)
{
    outb(0x43, (uint8_t)(channel << 6));
    uint8_t low = inb((uint16_t)(0x40 + channel));
    return (uint16_t)(low | inb((uint16_t)(0x40 + channel)) << 8);
}

void pit_gate(bool on)
{
    uint8_t value = inb(PORT_SYSTEM) & (uint8_t) ~(SYSTEM_GATE2 | SYSTEM_SPEAKER);

    outb(PORT_SYSTEM, (uint8_t)(value | (on ? SYSTEM_GATE2 : 0)));
}

bool pit_out(void)
{
    return (inb(PORT_SYSTEM) & SYSTEM_OUT2) != 0;
}

uint8_t cmos_read(uint8_t at)
{
    outb(0x70, at);
    return inb(0x71);
}

void cmos_write(uint8_t at, uint8_t value)
{
    outb(0x70, at);
    outb(0x71, value);
}

/* --- processors ---------------------------------------------------------------------------------
 */

static uint64_t segment(uint32_t base, uint32_t limit_pages, uint8_t access)
{
    return (uint64_t)(base >> 24) << 56 | (uint64_t)0xc << 52 | /* pages, 32 bits */
           (uint64_t)(limit_pages >> 16 & 0xf) << 48 | (uint64_t)access << 40 |
           (uint64_t)(base & 0xffffff) << 16 | (limit_pages & 0xffff);
}

static void load_tables(const struct cpu *cpu)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) gdtr = {sizeof(gdt) - 1, (uint32_t)(uintptr_t)gdt},
                              idtr = {sizeof(idt) - 1, (uint32_t)(uintptr_t)idt};

    __asm__ volatile("lgdt %0" : : "m"(gdtr));
    __asm__ volatile("ljmp %0, $1f\n1:" : : "i"(SELECTOR_CODE));
    __asm__ volatile("movw %w0, %%ds; movw %w0, %%es; movw %w0, %%fs; movw %w0, %%ss"
                     :
                     : "r"(SELECTOR_DATA)
                     : "memory");
    __asm__ volatile("movw %w0, %%gs" : : "r"(cpu->selector) : "memory");
    __asm__ volatile("lidt %0" : : "m"(idtr));
}

static void make_tables(void)
{
    gdt[SELECTOR_CODE / 8] = segment(0, 0xfffff, 0x9b);
    gdt[SELECTOR_DATA / 8] = segment(0, 0xfffff, 0x93);
    for (unsigned i = 0; i < CPUS_MAX; i++) {
        cpus[i].self = &cpus[i];
        cpus[i].index = i;
        cpus[i].selector = SELECTOR_CPU + 8 * i;
        cpus[i].stack_top = (uint32_t)(uintptr_t)stacks[i] + STACK_SIZE;
        gdt[SELECTOR_CPU / 8 + i] = segment((uint32_t)(uintptr_t)&cpus[i], 0xf, 0x93);
    }
    for (unsigned i = 0; i < VECTORS; i++) {
        uint32_t entry = (uint32_t)(uintptr_t)interrupt_stubs + i * INTERRUPT_STUB_SIZE;
        idt[i] = (uint64_t)(entry & 0xffff0000) << 32 | (uint64_t)GATE_INTERRUPT << 32 |
                 SELECTOR_CODE << 16 | (entry & 0xffff);
    }
}

void machine_init(void)
{
    make_tables();
    load_tables(&cpus[0]);
    measure_tsc();
    cpus[0].apic_id = cpuid(1, 0).ebx >> 24;
    machine_quiet();
}

static void uart_quiet(void)
{
    outb(UART + 3, 0x03); /* LCR: 8 bits, no divisor latch */
    outb(UART + 1, 0);    /* IER */
    outb(UART + 2, 0x06); /* FCR: empty both FIFOs, off */
    outb(UART + 4, 0x0b); /* MCR: DTR, RTS, OUT2; no loop */
    inb(UART + 5);        /* LSR, RBR, IIR, MSR: reading ends their interrupts */
    inb(UART);
    inb(UART + 2);
    inb(UART + 6);
}

static void rtc_quiet(void)
{
    cmos_write(RTC_B, (uint8_t)(cmos_read(RTC_B) & ~RTC_B_ENABLES));
    cmos_read(RTC_C);
}

void machine_quiet(void)
{
    interrupts_off();
    memset(handlers, 0, sizeof(handlers));
    pic_mask(0xffff); /* before LINT0 is masked: QEMU would give #GP for a request that then has no
                         vector */
    uart_quiet();
    rtc_quiet();
    pit_set(0, 0, 0); /* once, in 55 ms, and masked */
    pit_gate(false);
    apic_reset(&cpus[0]);
    for (unsigned pin = 0; pin < ioapic_pins(); pin++)
        ioapic_route(pin, 0, ENTRY_MASKED);
    pic_init(VECTOR_PIC, 1);
    apic_drain();
    counts_clear(&cpus[0]);
}

/* What a processor runs from its start-up IPI on. */
void cpu_main(struct cpu *cpu)
{
    load_tables(cpu);
    cpu->svr_at_start = apic_read(APIC_SVR);
    cpu->work = NULL;
    apic_reset(cpu);
    counts_clear(cpu);
    cpu->starts++;
    for (;;) {
        void (*work)(struct cpu *) = cpu->work;
        if (work) {
            work(cpu);
            cpu->work = NULL;
        } else {
            halt();
        }
    }
}

void cpu_init(const struct cpu *cpu)
{
    apic_send(cpu->apic_id, ICR_INIT | ICR_LEVEL | ICR_ASSERT);
    spin_us(200);
    apic_send(cpu->apic_id, ICR_INIT | ICR_LEVEL);
    spin_us(1000);
}

bool cpu_start(struct cpu *cpu)
{
    uint32_t before = cpu->starts;

    memcpy((void *)(uintptr_t)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
    cpu->x2apic = false;
    cpu_starting = cpu;
    cpu_init(cpu);
    apic_send(cpu->apic_id, ICR_STARTUP | TRAMPOLINE >> 12);
    if (WAIT_UNTIL(cpu->starts != before, 10000))
        return true;
    apic_send(cpu->apic_id, ICR_STARTUP | TRAMPOLINE >> 12);
    return WAIT_UNTIL(cpu->starts != before, BOUND_US);
}

void cpu_give(struct cpu *cpu, void (*work)(struct cpu *cpu))
{
    cpu->work = work;
    __asm__ volatile("" : : : "memory");
    apic_send(cpu->apic_id, VECTOR_WORK);
}

bool cpu_wait(const struct cpu *cpu)
{
    return WAIT_UNTIL(!cpu->work, BOUND_US);
}
