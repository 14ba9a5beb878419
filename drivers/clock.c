/* SPDX-License-Identifier: BSD-2-Clause */
/* See clock.h. */
#include "drivers/clock.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/io.h"
#include "hv/arch.h"

#define LEAF_TSC        0x15u /* SDM 2A, CPUID */
#define LEAF_HYPERVISOR 0x40000000u
#define LEAF_TIMING     0x40000010u /* EAX: TSC in kHz; VMware's convention, kept by KVM and others */

#define PM_TIMER_HZ   3579545u /* ACPI 6.4, 4.8.3.3 */
#define PM_TIMER_24   0xffffffu
#define PIT_HZ        1193182u
#define PIT_CHANNEL_2 0x42u
#define PIT_COMMAND   0x43u
#define PIT_MODE      0xb0u /* channel 2, both bytes, mode 0: output rises at terminal count */
#define PORT_61       0x61u
#define PORT_61_GATE  0x01u
#define PORT_61_SPKR  0x02u
#define PORT_61_OUT   0x20u

#define MEASUREMENTS     3u
#define MEASURE_FRACTION 100u     /* of a second, each */
#define POLLS_MAX        1000000u /* a hundredth of a second takes a tenth of them: 0.1 us a poll */

static uint64_t hz;
static const char *source;

static uint64_t from_cpuid(void)
{
    if (cpuid(0, 0).eax < LEAF_TSC)
        return 0;
    struct cpuid_regs r = cpuid(LEAF_TSC, 0);
    if (r.eax == 0 || r.ebx == 0 || r.ecx == 0)
        return 0;
    return (uint64_t)r.ecx * r.ebx / r.eax;
}

static uint64_t from_hypervisor(void)
{
    if (!(cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR) || cpuid(LEAF_HYPERVISOR, 0).eax < LEAF_TIMING)
        return 0;
    return (uint64_t)cpuid(LEAF_TIMING, 0).eax * 1000;
}

/* TSC ticks a second, by a hundredth of a second of the PM timer; 0 if it stands still. */
static uint64_t measure_pm_timer(uint16_t port)
{
    uint32_t wanted = PM_TIMER_HZ / MEASURE_FRACTION;
    uint32_t start = inl(port);
    uint64_t tsc = rdtsc();

    for (unsigned i = 0; i < POLLS_MAX; i++) {
        uint32_t counted = (inl(port) - start) & PM_TIMER_24; /* 24 bits do for this short time */
        if (counted >= wanted)
            return (rdtsc() - tsc) * PM_TIMER_HZ / counted;
    }
    return 0;
}

/* The same by channel 2 of the 8254, whose output falls when the mode is set, if it is there. */
static uint64_t measure_pit(uint16_t unused)
{
    uint32_t count = PIT_HZ / MEASURE_FRACTION;
    uint8_t kept = inb(PORT_61) & (uint8_t) ~(PORT_61_GATE | PORT_61_SPKR);

    (void)unused;
    outb(PORT_61, kept);
    outb(PIT_COMMAND, PIT_MODE);
    outb(PIT_CHANNEL_2, (uint8_t)count);
    outb(PIT_CHANNEL_2, (uint8_t)(count >> 8));
    if (inb(PORT_61) & PORT_61_OUT)
        return 0;
    outb(PORT_61, kept | PORT_61_GATE);
    uint64_t tsc = rdtsc();
    for (unsigned i = 0; i < POLLS_MAX; i++) {
        if (inb(PORT_61) & PORT_61_OUT)
            return (rdtsc() - tsc) * PIT_HZ / count;
    }
    return 0;
}

/* An SMI at its start makes a measurement too small, one at its end too large: the median of three
 * has neither. 0 when one of them failed. */
static uint64_t median(uint64_t (*measure)(uint16_t port), uint16_t port)
{
    uint64_t sorted[MEASUREMENTS] = {0};

    for (unsigned n = 0; n < MEASUREMENTS; n++) {
        uint64_t one = measure(port);
        unsigned at = n;
        if (one == 0)
            return 0;
        for (; at > 0 && sorted[at - 1] > one; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = one;
    }
    return sorted[MEASUREMENTS / 2];
}

void clock_init(const struct acpi_info *acpi)
{
    source = "CPUID";
    hz = from_cpuid();
    if (hz == 0) {
        source = "hypervisor";
        hz = from_hypervisor();
    }
    if (hz == 0 && acpi->pm_timer != 0) {
        source = "PM timer";
        hz = median(measure_pm_timer, acpi->pm_timer);
    }
    if (hz == 0) {
        source = "8254";
        hz = median(measure_pit, 0);
    }
    if (hz == 0)
        panic("no clock to measure the TSC against: no PM timer, and the 8254 stands still");
}

uint64_t clock_hz(void)
{
    return hz;
}

const char *clock_source(void)
{
    return source;
}
