/* SPDX-License-Identifier: BSD-2-Clause */
/* See apic.h. */
#include "drivers/apic.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/io.h"
#include "arch/x86_64/processor.h"
#include "hv/apic_registers.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"

#define APIC_BASE_ADDRESS  0x000ffffffffff000ull
#define APIC_BYTES         0x400u
#define VERSION_MAX_LVT(v) ((v) >> 16 & 0xff) /* the number of LVT entries less one */
#define LVT_TSC_DEADLINE   ((uint32_t)TIMER_DEADLINE << APIC_LVT_MODE_SHIFT)
#define LVT_DELIVERY(lvt)  ((lvt) >> APIC_LVT_DELIVERY_SHIFT & 7)
#define DIVIDE_BY_1        0xbu
#define XAPIC_ID_MAX       0xfeu /* 0xff is all processors */

/* Interrupt command, SDM 3A figure 11-12: physical destination, edge */
#define COMMAND(delivery) (APIC_ICR_ASSERT | (uint32_t)(delivery) << APIC_ICR_DELIVERY_SHIFT)

#define VECTOR_TIMER    0xf0u
#define VECTOR_KICK     0xf1u
#define VECTOR_SPURIOUS 0xffu

#define PIC1_DATA    0x21u
#define PIC2_DATA    0xa1u
#define PIC_MASK_ALL 0xffu

#define CALIBRATION_FRACTION 200u /* of a second: 5 ms */
#define MEASUREMENTS         3u
#define SEND_POLLS_MAX       100000u

/* Set for the boot processor; the others are brought into the same mode. */
static volatile uint32_t *xapic; /* NULL in x2APIC mode */
static uint64_t timer_hz;
static uint64_t timer_per_tsc; /* timer ticks a TSC tick, times 2^32 */
static bool has_tsc_deadline;

static volatile uint32_t *xapic_register(enum apic_register number)
{
    return &xapic[(number << APIC_REGISTER_SHIFT) / sizeof(uint32_t)];
}

static uint32_t apic_read(enum apic_register number)
{
    return xapic ? *xapic_register(number) : (uint32_t)rdmsr(MSR_X2APIC + number);
}

static void apic_write(enum apic_register number, uint32_t value)
{
    if (!xapic)
        wrmsr(MSR_X2APIC + number, value);
    else
        *xapic_register(number) = value;
}

static bool in_x2apic_mode(void)
{
    return (rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC) != 0;
}

static void enable(bool want_x2apic)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    bool has_x2apic = (cpuid(1, 0).ecx & CPUID1_ECX_X2APIC) && !fault_capability("x2APIC");

    /* x2APIC is entered from enabled xAPIC, and cannot be left without a reset, SDM 3A 11.12.5. */
    wrmsr(MSR_APIC_BASE, base | APIC_BASE_ENABLE);
    if ((base & APIC_BASE_X2APIC) || (has_x2apic && want_x2apic)) {
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
        xapic = NULL;
    } else {
        xapic = host_map_device(hpa(base & APIC_BASE_ADDRESS), APIC_BYTES);
    }
}

/*
 * Entries that came with later processors are there when the version register counts that many
 * (SDM 3A 11.4.8, 11.5.1). One that the firmware delivers to itself, as SMI, stays: it may be what
 * keeps the processor cool.
 */
static void mask_all(void)
{
    static const struct {
        uint8_t number;  /* enum apic_register */
        uint8_t max_lvt; /* the least value of VERSION_MAX_LVT that has it */
    } entries[] = {
        {APIC_LVT_TIMER, 0},       {APIC_LVT_LINT0, 0},   {APIC_LVT_LINT1, 0}, {APIC_LVT_ERROR, 3},
        {APIC_LVT_PERFORMANCE, 4}, {APIC_LVT_THERMAL, 5}, {APIC_LVT_CMCI, 6},
    };
    uint32_t max_lvt = VERSION_MAX_LVT(apic_read(APIC_VERSION));

    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++) {
        if (max_lvt < entries[i].max_lvt || LVT_DELIVERY(apic_read(entries[i].number)) == APIC_SMI)
            continue;
        apic_write(entries[i].number, APIC_LVT_MASKED | VECTOR_SPURIOUS);
    }
}

/* Ticks of the timer per tick of the TSC, times 2^32. */
static uint64_t measure_timer(void)
{
    uint64_t start = time_now();
    uint64_t wait = time_hz() / CALIBRATION_FRACTION;

    apic_write(APIC_TIMER_INITIAL, UINT32_MAX);
    while (time_now() - start < wait)
        cpu_pause();
    uint32_t counted = UINT32_MAX - apic_read(APIC_TIMER_CURRENT);
    uint64_t elapsed = time_now() - start;
    apic_write(APIC_TIMER_INITIAL, 0);
    return ((uint64_t)counted << 32) / elapsed;
}

/* What holds the processor up between two reads, as an SMI does, makes a measurement too small: the
 * largest is the best. */
static void calibrate_timer(void)
{
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    timer_per_tsc = 0;
    for (unsigned n = 0; n < MEASUREMENTS; n++)
        timer_per_tsc = max_u64(timer_per_tsc, measure_timer());
    timer_hz = (uint64_t)((unsigned __int128)time_hz() * timer_per_tsc >> 32);
}

void apic_init(bool want_x2apic)
{
    enable(want_x2apic);
    outb(PIC1_DATA, PIC_MASK_ALL);
    outb(PIC2_DATA, PIC_MASK_ALL);
    mask_all();
    apic_write(APIC_SVR, APIC_SVR_ENABLE | VECTOR_SPURIOUS);
    calibrate_timer();
    has_tsc_deadline =
        (cpuid(1, 0).ecx & CPUID1_ECX_TSC_DEADLINE) && !fault_capability("TSC deadline");
    this_processor()->apic_id = apic_id();
    log_line("apic: %s, id %u, timer %llu kHz%s", xapic ? "xAPIC" : "x2APIC", apic_id(),
             (unsigned long long)timer_hz / 1000, has_tsc_deadline ? ", TSC deadline" : "");
}

/* INIT leaves the mode as it was, SDM 3A 11.12.5.1: firmware has started this processor before. */
bool apic_enter(struct why *why)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE);
    if (!xapic && !in_x2apic_mode())
        wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    if (xapic && in_x2apic_mode())
        return why_set(why, "its APIC is in x2APIC mode, and the boot processor's is not");
    mask_all();
    apic_write(APIC_SVR, APIC_SVR_ENABLE | VECTOR_SPURIOUS);
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    return true;
}

uint32_t apic_id(void)
{
    uint32_t id = apic_read(APIC_ID);

    return xapic ? id >> APIC_ID_SHIFT : id;
}

/* --- interrupts to other processors ----------------------------------------------------------- */

bool apic_can_reach(uint32_t id)
{
    return !xapic || id <= XAPIC_ID_MAX;
}

/*
 * What this processor has written before must be visible to the one that is interrupted. A store to
 * an uncached register orders itself behind earlier stores, a WRMSR to an x2APIC does not (SDM
 * 3A 11.12.3).
 */
static void send(uint32_t id, uint32_t command)
{
    if (!xapic) {
        __asm__ volatile("mfence; lfence" : : : "memory");
        wrmsr(MSR_X2APIC + APIC_ICR, (uint64_t)id << APIC_ICR_X2APIC_SHIFT | command);
        return;
    }
    for (unsigned i = 0; i < SEND_POLLS_MAX && (apic_read(APIC_ICR) & APIC_ICR_PENDING); i++)
        cpu_pause();
    apic_write(APIC_ICR_HIGH, id << APIC_ID_SHIFT);
    apic_write(APIC_ICR, command);
}

void apic_send_init(uint32_t id)
{
    send(id, COMMAND(APIC_INIT));
}

void apic_send_startup(uint32_t id, uint8_t page)
{
    send(id, COMMAND(APIC_SIPI) | page);
}

void apic_send_kick(uint32_t id)
{
    send(id, COMMAND(APIC_FIXED) | VECTOR_KICK);
}

void apic_send_nmi(uint32_t id)
{
    send(id, COMMAND(APIC_NMI));
}

/* --- the timer -------------------------------------------------------------------------------- */

/* TSC ticks as ticks of the timer; 0 would stop it. */
static uint32_t timer_count(uint64_t ticks)
{
    unsigned __int128 count = (unsigned __int128)ticks * timer_per_tsc >> 32;

    if (count == 0)
        return 1;
    return count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
}

void apic_timer_once(uint64_t until)
{
    uint64_t now = time_now();

    if (until == APIC_TIMER_NEVER) {
        apic_write(APIC_LVT_TIMER, APIC_LVT_MASKED | VECTOR_TIMER);
        apic_write(APIC_TIMER_INITIAL, 0);
    } else if (has_tsc_deadline) {
        apic_write(APIC_LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
        /* The write to a memory-mapped LVT must be there before the WRMSR, SDM 3A 11.5.4.1. */
        __asm__ volatile("mfence" : : : "memory");
        wrmsr(MSR_TSC_DEADLINE, max_u64(until, 1)); /* 0 would disarm it */
    } else {
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
        apic_write(APIC_TIMER_INITIAL, timer_count(until > now ? until - now : 0));
    }
}

void apic_interrupt_in_hypervisor(uint8_t vector)
{
    if (vector == VECTOR_SPURIOUS)
        return; /* not in service: no EOI, SDM 3A 11.9 */
    apic_write(APIC_EOI, 0);
    if (vector != VECTOR_TIMER && vector != VECTOR_KICK)
        log_line("apic: unexpected interrupt, vector 0x%x", vector);
}
