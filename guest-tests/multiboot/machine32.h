/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PC for 32-bit Multiboot guests: processors, interrupts, waiting, and the registers of the
 * interrupt controllers.
 *
 * Interrupts are disabled except inside the functions that wait. Each interrupt is counted on the
 * processor that took it, and acknowledged where its vector says: 0x20 to 0x2f at the i8259s, the
 * others at the local APIC, unless a handler of the guest's own does it. Everything that waits is
 * bounded by the TSC, whose rate machine_init measures against the i8254.
 */
#ifndef GUEST_MACHINE32_H
#define GUEST_MACHINE32_H

#include "guest-tests/multiboot/lib32.h"

#define CPUS_MAX   64u
#define VECTORS    256u
#define ORDER_MAX  64u
#define STACK_SIZE 4096u

#define VECTOR_NMI      2u
#define VECTOR_GP       13u
#define VECTOR_PIC      0x20u
#define VECTOR_SPURIOUS 0xffu

/* Far longer than anything takes that is waited for: only a failure waits so long. */
#define BOUND_US 1000000u

struct cpu {
    struct cpu *self; /* at GS:0 */
    uint32_t selector, stack_top;
    uint32_t index, apic_id;
    bool x2apic; /* its local APIC is in x2APIC mode: registers are MSRs */
    volatile uint32_t counts[VECTORS];
    volatile uint64_t last_tsc[VECTORS]; /* when the vector came last */
    volatile uint8_t order[ORDER_MAX];   /* the first vectors that came, in their order */
    volatile uint32_t order_count;
    /* An exception at an instruction that may fault goes on at `resume` and leaves its vector. */
    volatile uint32_t resume, fault_vector;
    /* Of other processors than the first: whether they are there, and what they are to do. */
    volatile uint32_t starts;
    volatile uint32_t svr_at_start;
    void (*volatile work)(struct cpu *cpu);
};

struct frame {
    uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax;
    uint32_t vector, error_code;
    uint32_t eip, cs, eflags;
};

typedef void vector_handler(struct cpu *cpu, unsigned vector);

extern struct cpu cpus[CPUS_MAX];
extern uint32_t tsc_khz; /* TSC ticks in a millisecond */

/* GDT, IDT, i8259s at VECTOR_PIC with all masked, local APIC enabled, tsc_khz. Ends the guest if
 * the TSC does not run against the i8254. */
void machine_init(void);

/* The state in which each check starts: nothing raises interrupts, all is masked but the local APIC
 * itself (xAPIC mode, TPR 0), nothing is pending or in service, counts are 0, no handlers. */
void machine_quiet(void);

/* --- interrupts ---------------------------------------------------------------------------------
 */

/* Call `handler` for `vector` on any processor, which then owes the acknowledgement; NULL:
 * acknowledge. */
void set_handler(unsigned vector, vector_handler *handler);
void acknowledge(unsigned vector);
void counts_clear(struct cpu *cpu);

/* With interrupts enabled: until `vector` has come `count` times on this processor; false: not
 * within `us` microseconds. */
bool wait_count(unsigned vector, uint32_t count, uint32_t us);
/* Enable interrupts for so many microseconds. */
void listen_us(uint32_t us);

/* --- waiting ------------------------------------------------------------------------------------
 */

uint64_t ticks_of_us(uint32_t us); /* up to 1,000,000 microseconds */
void spin_us(uint32_t us);
/* a * b / c, a / b; the quotient must fit. */
uint32_t mul_div(uint32_t a, uint32_t b, uint32_t c);
uint32_t divide(uint64_t a, uint32_t b);
/* Whether `value` is within `percent` of `about`. */
bool is_about(uint32_t value, uint32_t about, uint32_t percent);

static inline uint64_t rdtsc(void)
{
    uint64_t value;

    __asm__ volatile("lfence; rdtsc" : "=A"(value) : : "memory");
    return value;
}

/*
 * A counter's value and when it was so. Where an emulator's host takes its processor away, a
 * reading takes long: of some readings the shortest counts, so that two samples far apart give the
 * right rate.
 */
struct sample {
    uint64_t tsc;
    uint32_t value;
};

struct sample sample_counter(uint32_t (*read)(void));
/* How fast a counter of the bits `mask` counts up, by two samples `us` apart. */
uint32_t counter_khz(uint32_t (*read)(void), uint32_t mask, uint32_t us);

struct deadline {
    uint64_t start, ticks;
};

static inline struct deadline deadline_in(uint32_t us)
{
    return (struct deadline){rdtsc(), ticks_of_us(us)};
}

static inline bool is_over(const struct deadline *d)
{
    __asm__ volatile("pause");
    return rdtsc() - d->start >= d->ticks;
}

/* Until `condition` holds or `us` have passed; the value is whether it holds. */
#define WAIT_UNTIL(condition, us)                                                                  \
    ({                                                                                             \
        struct deadline deadline_ = deadline_in(us);                                               \
        bool holds_ = (condition);                                                                 \
        while (!holds_ && !is_over(&deadline_))                                                    \
            holds_ = (condition);                                                                  \
        holds_;                                                                                    \
    })

/* --- local APIC (SDM 3A, chapter 10) -------------------------------------------------------------
 */

#define APIC_BASE 0xfee00000u

#define APIC_ID            0x020u
#define APIC_VERSION       0x030u
#define APIC_TPR           0x080u
#define APIC_PPR           0x0a0u
#define APIC_EOI           0x0b0u
#define APIC_LDR           0x0d0u
#define APIC_DFR           0x0e0u
#define APIC_SVR           0x0f0u
#define APIC_ISR           0x100u
#define APIC_IRR           0x200u
#define APIC_ESR           0x280u
#define APIC_ICR           0x300u
#define APIC_ICR_HIGH      0x310u
#define APIC_LVT_TIMER     0x320u
#define APIC_LVT_LINT0     0x350u
#define APIC_LVT_LINT1     0x360u
#define APIC_LVT_ERROR     0x370u
#define APIC_TIMER_INITIAL 0x380u
#define APIC_TIMER_CURRENT 0x390u
#define APIC_TIMER_DIVIDE  0x3e0u
#define APIC_SELF_IPI      0x3f0u

#define SVR_ENABLE       (1u << 8)
#define LVT_MASKED       (1u << 16)
#define LVT_EXTINT       0x700u
#define LVT_NMI          0x400u
#define TIMER_PERIODIC   (1u << 17)
#define TIMER_DEADLINE   (2u << 17)
#define DIVIDE_BY_1      0xbu
#define DIVIDE_BY_2      0x0u
#define DIVIDE_BY_16     0x3u
#define ICR_LOWEST       0x100u
#define ICR_NMI          0x400u
#define ICR_INIT         0x500u
#define ICR_STARTUP      0x600u
#define ICR_LOGICAL      (1u << 11)
#define ICR_PENDING      (1u << 12)
#define ICR_ASSERT       (1u << 14)
#define ICR_LEVEL        (1u << 15)
#define ICR_SELF         (1u << 18)
#define ICR_ALL          (2u << 18)
#define ICR_ALL_BUT_SELF (3u << 18)
#define ESR_SEND_VECTOR  (1u << 5)
#define ESR_REGISTER     (1u << 7)

#define MSR_APIC_BASE    0x01bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u
#define APIC_BASE_BSP    (1u << 8)
#define APIC_BASE_X2APIC (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)

static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;

    __asm__ volatile("movl %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

uint32_t apic_read(uint32_t reg);
void apic_write(uint32_t reg, uint32_t value);
/* Bit `vector` of the 256-bit register at `reg`: APIC_IRR or APIC_ISR. */
bool apic_bit(uint32_t reg, unsigned vector);
/* Write the interrupt command register: `destination` is an APIC ID or a logical destination. Waits
 * for the delivery status of the one before; false: it stays pending. */
bool apic_send(uint32_t destination, uint32_t command);
/* Enabled, xAPIC mode, TPR 0, LVT masked, timer off. From any state. */
void apic_reset(struct cpu *cpu);

/* --- I/O APIC (82093AA data sheet)
 * ---------------------------------------------------------------- */

#define IOAPIC_VERSION    0x01u
#define IOAPIC_ENTRY(pin) (0x10u + 2 * (pin))
#define ENTRY_LOGICAL     (1u << 11)
#define ENTRY_DELIVERY    (1u << 12)
#define ENTRY_LOW         (1u << 13)
#define ENTRY_REMOTE_IRR  (1u << 14)
#define ENTRY_LEVEL       (1u << 15)
#define ENTRY_MASKED      (1u << 16)

uint32_t ioapic_read(uint32_t reg);
void ioapic_write(uint32_t reg, uint32_t value);
unsigned ioapic_pins(void);
/* Destination in bits 31:24 of the upper half: an APIC ID or a logical destination. */
void ioapic_route(unsigned pin, uint32_t destination, uint32_t low);

/* --- i8259s
 * --------------------------------------------------------------------------------------- */

#define PIC_MASTER  0x20u
#define PIC_SLAVE   0xa0u
#define PIC_CASCADE 2u

/* ICW1 to ICW4: vectors from `base`, edge triggered, cascaded on IR2; all masked. */
void pic_init(unsigned base, uint8_t icw4);
void pic_mask(uint16_t mask);
void pic_unmask(unsigned irq); /* this alone, with the cascade if it needs it */
uint16_t pic_irr(void);
uint16_t pic_isr(void);
void pic_eoi(unsigned irq);
/* Connect the i8259s to this processor: LINT0 as ExtINT. */
void pic_connect(void);

/* --- i8254
 * ---------------------------------------------------------------------------------------- */

#define PIT_HZ   1193182u
#define PIT_MASK 0xffffu

/* Program counter `channel`, low and high byte; a count of 0 is 65536. */
void pit_set(unsigned channel, unsigned mode, uint16_t count);
uint16_t pit_read(unsigned channel); /* latched */
void pit_gate(bool on);              /* counter 2's gate; the speaker stays off */
bool pit_out(void);                  /* counter 2's output */
uint32_t pit_elapsed(void); /* counts since counter 0 was set in mode 2 to 0, in PIT_MASK */

/* --- RTC
 * ------------------------------------------------------------------------------------------ */

uint8_t cmos_read(uint8_t at);
void cmos_write(uint8_t at, uint8_t value);

/* --- instructions
 * --------------------------------------------------------------------------------- */

struct cpuid_result {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_result r;

    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint64_t value;

    __asm__ volatile("rdmsr" : "=A"(value) : "c"(msr));
    return value;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "A"(value), "c"(msr) : "memory");
}

/* Whether the instruction gives #GP. */
bool wrmsr_faults(uint32_t msr, uint64_t value);
bool rdmsr_faults(uint32_t msr);

static inline void interrupts_on(void)
{
    __asm__ volatile("sti" : : : "memory");
}

static inline void interrupts_off(void)
{
    __asm__ volatile("cli" : : : "memory");
}

/* Enable interrupts and halt, with nothing in between (STI's shadow), then disable them. */
static inline void halt(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline uint32_t read32(uint32_t at)
{
    return *(volatile uint32_t *)(uintptr_t)at;
}

static inline void write32(uint32_t at, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)at = value;
}

/* --- other processors
 * ----------------------------------------------------------------------------- */

/* The vector that makes a halted processor look for work. */
#define VECTOR_WORK 0xf1u

/* INIT-SIPI-SIPI (SDM 3A 8.4.4.1) for `cpu`, whose apic_id is set; false: it did not come within
 * the bound. */
bool cpu_start(struct cpu *cpu);
/* Only the INIT. */
void cpu_init(const struct cpu *cpu);
/* Give `cpu` work without waiting; cpu_wait: until it is done, false: not within the bound. */
void cpu_give(struct cpu *cpu, void (*work)(struct cpu *cpu));
bool cpu_wait(const struct cpu *cpu);

#endif
