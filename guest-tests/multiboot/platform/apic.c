/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of the first processor's local APIC, in xAPIC and x2APIC mode (SDM 3A, chapter 10). */
#include "guest-tests/multiboot/platform/platform.h"

#define VECTOR_TIMER 0x40u
#define VECTOR_LOW   0x51u
#define VECTOR_MID   0x55u
#define VECTOR_HIGH  0x65u
#define VECTOR_ERROR 0x70u
#define VECTOR_WRONG 0x05u

#define CPUID_1_EDX_APIC     (1u << 9)
#define CPUID_1_ECX_X2APIC   (1u << 21)
#define CPUID_1_ECX_DEADLINE (1u << 24)

#define DFR_FLAT    0xffffffffu
#define DFR_CLUSTER 0x0fffffffu

#define REGISTER_RESERVED 0x040u

/* How long it is worth waiting for what must not come. */
#define SILENCE_US 300u

static const char needs_more[] = "QEMU's emulation leaves this out";

/* 10.4.3, 10.4.4, 10.4.6, 10.4.8: where the local APIC is, that CPUID tells of it, and who it is.
 */
static const char *version(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    uint32_t value = apic_read(APIC_VERSION);

    EXPECT(cpuid(1, 0).edx & CPUID_1_EDX_APIC, "CPUID tells of no local APIC");
    EXPECT_EQ((uint32_t)base & 0xfffff000, APIC_BASE, "IA32_APIC_BASE: the address");
    EXPECT(base & APIC_BASE_ENABLE, "IA32_APIC_BASE: not enabled");
    EXPECT(base & APIC_BASE_BSP, "IA32_APIC_BASE: the first processor is not the BSP");
    EXPECT((value & 0xff) >= 0x10 && (value & 0xff) <= 0x1f,
           "the version is none of an integrated APIC");
    EXPECT((value >> 16 & 0xff) >= 3, "fewer than 4 LVT entries");
    EXPECT_EQ(apic_read(APIC_ID) >> 24, cpuid(1, 0).ebx >> 24, "the ID is not CPUID's");
    return NULL;
}

/* 10.5.1, 10.6.2.2, 10.8.3.1, 10.9: registers hold what software writes, and only the bits that
 * they have. */
static const char *registers(void)
{
    apic_write(APIC_LDR, 0xa5ffffff);
    EXPECT_EQ(apic_read(APIC_LDR), 0xa5000000, "LDR");
    apic_write(APIC_DFR, 0);
    EXPECT_EQ(apic_read(APIC_DFR), DFR_CLUSTER, "DFR: cluster model");
    apic_write(APIC_DFR, DFR_FLAT);
    EXPECT_EQ(apic_read(APIC_DFR), DFR_FLAT, "DFR: flat model");
    apic_write(APIC_TPR, 0x5f);
    EXPECT_EQ(apic_read(APIC_TPR), 0x5f, "TPR");
    EXPECT_EQ(apic_read(APIC_PPR), 0x5f, "PPR does not follow TPR");
    apic_write(APIC_TPR, 0);
    EXPECT_EQ(apic_read(APIC_PPR), 0, "PPR does not follow TPR back");
    apic_write(APIC_SVR, SVR_ENABLE | 0xef);
    EXPECT_EQ(apic_read(APIC_SVR) & 0x1ff, SVR_ENABLE | 0xef, "SVR");
    apic_write(APIC_LVT_TIMER, LVT_MASKED | TIMER_PERIODIC | VECTOR_TIMER);
    EXPECT_EQ(apic_read(APIC_LVT_TIMER), LVT_MASKED | TIMER_PERIODIC | VECTOR_TIMER, "LVT timer");
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    EXPECT_EQ(apic_read(APIC_TIMER_DIVIDE), DIVIDE_BY_1, "divide configuration");
    apic_write(APIC_ICR_HIGH, 0x7fffffff);
    EXPECT_EQ(apic_read(APIC_ICR_HIGH) >> 24, 0x7f, "ICR's upper half");
    return NULL;
}

/* 10.4.7.2: software disabled, no fixed interrupt is accepted; enabled again, they are. */
static const char *software_disable(void)
{
    apic_write(APIC_SVR, VECTOR_SPURIOUS);
    EXPECT(apic_send(0, ICR_SELF | VECTOR_MID), "the ICR stays busy");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_MID], 0, "an interrupt was accepted while software disabled");
    apic_write(APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
    listen_us(SILENCE_US);
    uint32_t late = cpus[0].counts[VECTOR_MID];
    EXPECT(apic_send(0, ICR_SELF | VECTOR_MID), "the ICR stays busy after re-enabling");
    EXPECT(wait_count(VECTOR_MID, late + 1, BOUND_US), "no interrupts after re-enabling");
    return NULL;
}

/* 10.4.7.2: while software disabled all LVT entries are masked and stay so. */
static const char *software_disable_masks(void)
{
    if (on_qemu_tcg())
        return skip(needs_more);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    apic_write(APIC_SVR, VECTOR_SPURIOUS);
    EXPECT(apic_read(APIC_LVT_TIMER) & LVT_MASKED, "LVT timer: not masked by software disabling");
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    EXPECT(apic_read(APIC_LVT_TIMER) & LVT_MASKED, "LVT timer: unmasked while software disabled");
    apic_write(APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
    EXPECT(apic_read(APIC_LVT_TIMER) & LVT_MASKED, "LVT timer: unmasked by enabling");
    return NULL;
}

/* 10.4.3, 10.4.7.1: globally disabled, the processor is one without an APIC: CPUID does not tell of
 * it and its registers are gone. Enabled again it is as after reset. */
static const char *global_disable(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);

    if (on_qemu_tcg())
        return skip("QEMU's emulation cannot enable it again");
    apic_write(APIC_LDR, 0x5a000000);
    apic_write(APIC_TPR, 0x30);
    wrmsr(MSR_APIC_BASE, base & ~(uint64_t)APIC_BASE_ENABLE);
    uint32_t edx = cpuid(1, 0).edx, dead = read32(APIC_BASE + APIC_VERSION);
    write32(APIC_BASE + APIC_TPR, 0x70);
    wrmsr(MSR_APIC_BASE, base);
    EXPECT(!(edx & CPUID_1_EDX_APIC), "CPUID tells of an APIC while it is disabled");
    EXPECT_EQ(dead, 0xffffffff, "the registers answer while the APIC is disabled");
    EXPECT(cpuid(1, 0).edx & CPUID_1_EDX_APIC, "CPUID tells of no APIC after re-enabling");
    EXPECT_EQ(apic_read(APIC_TPR), 0, "TPR is not as after reset");
    EXPECT_EQ(apic_read(APIC_LDR), 0, "LDR is not as after reset");
    EXPECT_EQ(apic_read(APIC_SVR) & 0x1ff, 0xff, "SVR is not as after reset");
    EXPECT_EQ(apic_read(APIC_LVT_TIMER), LVT_MASKED, "LVT timer is not as after reset");
    EXPECT_EQ(apic_read(APIC_ID) >> 24, cpus[0].apic_id, "the ID changed");
    return NULL;
}

/* 10.8.3.1: an interrupt waits in the IRR while its priority class is not above TPR's. */
static const char *task_priority(void)
{
    apic_write(APIC_TPR, 0x50);
    apic_send(0, ICR_SELF | VECTOR_MID);
    apic_send(0, ICR_SELF | VECTOR_HIGH);
    EXPECT(wait_count(VECTOR_HIGH, 1, BOUND_US), "the class above TPR's did not come");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_MID], 0, "TPR's own class came");
    EXPECT(apic_bit(APIC_IRR, VECTOR_MID), "what waits for TPR is not in the IRR");
    apic_write(APIC_TPR, 0x4f);
    EXPECT(wait_count(VECTOR_MID, 1, BOUND_US), "lowering TPR did not let it through");
    EXPECT(!apic_bit(APIC_IRR, VECTOR_MID), "it is still in the IRR");
    return NULL;
}

/* 10.8.4: the highest vector first. */
static const char *order(void)
{
    static const uint8_t want[] = {VECTOR_HIGH, VECTOR_MID, VECTOR_LOW};

    apic_send(0, ICR_SELF | VECTOR_MID);
    apic_send(0, ICR_SELF | VECTOR_LOW);
    apic_send(0, ICR_SELF | VECTOR_HIGH);
    for (unsigned i = 0; i < 3; i++)
        EXPECT(apic_bit(APIC_IRR, want[i]), "not all that were sent are in the IRR");
    EXPECT(wait_count(VECTOR_LOW, 1, BOUND_US), "the lowest one did not come");
    EXPECT_EQ(cpus[0].order_count, 3, "so many came");
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(cpus[0].order[i], want[i], "the order");
    return NULL;
}

static uint32_t seen_ppr;
static bool seen_isr, seen_irr, seen_after_eoi, low_before_eoi, high_before_eoi;

/* In service, with interrupts enabled: a higher class comes, the same class waits. */
static void nest(struct cpu *cpu, unsigned vector)
{
    seen_isr = apic_bit(APIC_ISR, vector);
    seen_irr = apic_bit(APIC_IRR, vector);
    seen_ppr = apic_read(APIC_PPR);
    apic_send(0, ICR_SELF | VECTOR_LOW);
    apic_send(0, ICR_SELF | VECTOR_HIGH);
    listen_us(SILENCE_US);
    high_before_eoi = cpu->counts[VECTOR_HIGH] != 0;
    low_before_eoi = cpu->counts[VECTOR_LOW] != 0;
    apic_write(APIC_EOI, 0);
    seen_after_eoi = apic_bit(APIC_ISR, vector);
}

/* 10.8.3.1, 10.8.4, 10.8.5: ISR, IRR and PPR while in service; nesting; EOI. */
static const char *in_service(void)
{
    set_handler(VECTOR_MID, nest);
    apic_send(0, ICR_SELF | VECTOR_MID);
    EXPECT(wait_count(VECTOR_MID, 1, BOUND_US), "the interrupt did not come");
    EXPECT(seen_isr, "in service, but not in the ISR");
    EXPECT(!seen_irr, "in service, and still in the IRR");
    EXPECT_EQ(seen_ppr, VECTOR_MID & 0xf0, "PPR while in service");
    EXPECT(high_before_eoi, "a higher class did not interrupt");
    EXPECT(!low_before_eoi, "the same class interrupted");
    EXPECT(!seen_after_eoi, "EOI left it in the ISR");
    EXPECT(wait_count(VECTOR_LOW, 1, BOUND_US), "the one that waited did not come after EOI");
    return NULL;
}

/* 10.8.4: one waits while one is in service; more of the same vector are lost. */
static const char *merging(void)
{
    for (unsigned i = 0; i < 3; i++)
        apic_send(0, ICR_SELF | VECTOR_MID);
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_MID], 1, "one vector sent three times before it is taken");
    return NULL;
}

static const char *send_self(uint32_t destination, uint32_t command, const char *why)
{
    uint32_t before = cpus[0].counts[VECTOR_MID];

    EXPECT(apic_send(destination, command | VECTOR_MID), "the ICR stays busy");
    EXPECT(wait_count(VECTOR_MID, before + 1, BOUND_US), why);
    EXPECT(!(apic_read(APIC_ICR) & ICR_PENDING), "sent, and still pending");
    return NULL;
}

/* 10.6.1, 10.6.2: to oneself by each kind of destination; and to nobody. */
static const char *self_ipi(void)
{
    EXPECT_OK(send_self(0, ICR_SELF, "shorthand self"));
    EXPECT_OK(send_self(cpus[0].apic_id, 0, "physical destination"));
    EXPECT_OK(send_self(0xff, 0, "physical broadcast"));
    apic_write(APIC_DFR, DFR_FLAT);
    apic_write(APIC_LDR, 0x04000000);
    EXPECT_OK(send_self(0x04, ICR_LOGICAL, "logical destination, flat"));
    EXPECT_OK(send_self(0x0c, ICR_LOGICAL, "logical destination, flat, two bits"));
    EXPECT_OK(send_self(0x04, ICR_LOGICAL | ICR_LOWEST, "lowest priority"));
    uint32_t before = cpus[0].counts[VECTOR_MID];
    apic_send(0x08, ICR_LOGICAL | VECTOR_MID);
    apic_send(0, ICR_ALL_BUT_SELF | VECTOR_MID);
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_MID], before, "what was for others came");
    apic_write(APIC_DFR, DFR_CLUSTER);
    apic_write(APIC_LDR, 0x22000000);
    EXPECT_OK(send_self(0x26, ICR_LOGICAL, "logical destination, cluster"));
    before = cpus[0].counts[VECTOR_MID];
    apic_send(0x12, ICR_LOGICAL | VECTOR_MID);
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_MID], before, "what was for another cluster came");
    apic_write(APIC_DFR, DFR_FLAT);
    return NULL;
}

/* 10.5.3: an access to a reserved register. */
static const char *error_register(void)
{
    apic_write(APIC_ESR, 0);
    (void)apic_read(REGISTER_RESERVED);
    apic_write(APIC_ESR, 0);
    EXPECT(apic_read(APIC_ESR) & ESR_REGISTER, "a reserved register was read: no error");
    return NULL;
}

/* 10.5.3: sending a vector below 16 is an error, raises the LVT's error interrupt, and sends
 * nothing; writing the ESR twice clears it. */
static const char *error_vector(void)
{
    if (on_qemu_tcg())
        return skip(needs_more);
    apic_write(APIC_LVT_ERROR, VECTOR_ERROR);
    apic_write(APIC_ESR, 0);
    apic_send(0, ICR_SELF | VECTOR_WRONG);
    EXPECT(wait_count(VECTOR_ERROR, 1, BOUND_US), "no error interrupt");
    apic_write(APIC_ESR, 0);
    EXPECT(apic_read(APIC_ESR) & ESR_SEND_VECTOR, "ESR does not tell of the illegal vector");
    EXPECT(!apic_bit(APIC_IRR, VECTOR_WRONG), "the illegal vector is in the IRR");
    apic_write(APIC_ESR, 0);
    EXPECT_EQ(apic_read(APIC_ESR), 0, "ESR is not cleared by two writes");
    return NULL;
}

/* --- the timer ----------------------------------------------------------------------------------
 */

static uint64_t timer_started; /* TSC just before the initial count was written */

static uint32_t timer_elapsed(void)
{
    return 0u - apic_read(APIC_TIMER_CURRENT);
}

/* Counts in a millisecond with this divider. */
static uint32_t timer_khz(uint32_t divide)
{
    apic_write(APIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_TIMER_DIVIDE, divide);
    apic_write(APIC_TIMER_INITIAL, 0xffffffff);
    uint32_t khz = counter_khz(timer_elapsed, 0xffffffff, 2000);
    apic_write(APIC_TIMER_INITIAL, 0);
    return khz;
}

/* 10.5.4: the divider. Up to 5 attempts, as an emulator may be held up. */
static const char *timer_divider(void)
{
    uint32_t by_1 = 0, by_2 = 0, by_16 = 0;

    for (unsigned attempt = 0; attempt < 5; attempt++) {
        by_1 = timer_khz(DIVIDE_BY_1);
        by_2 = timer_khz(DIVIDE_BY_2);
        by_16 = timer_khz(DIVIDE_BY_16);
        if (by_16 && is_about(by_1, 2 * by_2, 3) && is_about(by_1, 16 * by_16, 3))
            return NULL;
    }
    EXPECT(by_16, "the timer does not count");
    EXPECT_EQ(by_1, 2 * by_2, "counts in a millisecond, divided by 1 and by 2");
    EXPECT_EQ(by_1, 16 * by_16, "counts in a millisecond, divided by 1 and by 16");
    return NULL;
}

static void timer_start(uint32_t lvt, uint32_t us)
{
    uint32_t khz = timer_khz(DIVIDE_BY_1);

    apic_write(APIC_LVT_TIMER, lvt);
    timer_started = rdtsc();
    apic_write(APIC_TIMER_INITIAL, mul_div(khz, us, 1000));
}

/* 10.5.4: one shot: the count goes down to 0 and stays, with one interrupt, not before its time. */
static const char *timer_one_shot(void)
{
    const uint32_t us = 2000;

    timer_start(VECTOR_TIMER, us);
    uint32_t last = apic_read(APIC_TIMER_INITIAL);
    interrupts_on();
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t now = apic_read(APIC_TIMER_CURRENT);
        if (now > last) {
            interrupts_off();
            return "the current count went up";
        }
        last = now;
    }
    EXPECT(wait_count(VECTOR_TIMER, 1, BOUND_US), "no interrupt");
    uint32_t took = (uint32_t)(cpus[0].last_tsc[VECTOR_TIMER] - timer_started);
    EXPECT(took >= (uint32_t)ticks_of_us(us - us / 20), "the interrupt came before its time");
    EXPECT_EQ(apic_read(APIC_TIMER_CURRENT), 0, "the current count after the end");
    listen_us(2 * us);
    EXPECT_EQ(cpus[0].counts[VECTOR_TIMER], 1, "more than one interrupt");
    return NULL;
}

/* 10.5.4: periodic: interrupts until the initial count is 0. */
static const char *timer_periodic(void)
{
    const uint32_t us = 500;

    timer_start(TIMER_PERIODIC | VECTOR_TIMER, us);
    EXPECT(wait_count(VECTOR_TIMER, 10, BOUND_US), "fewer than ten interrupts");
    uint32_t took = (uint32_t)(rdtsc() - timer_started);
    EXPECT(took >= (uint32_t)ticks_of_us(9 * us), "ten interrupts came before their time");
    EXPECT(apic_read(APIC_TIMER_CURRENT) <= apic_read(APIC_TIMER_INITIAL),
           "the current count is too high");
    apic_write(APIC_TIMER_INITIAL, 0);
    listen_us(50);
    uint32_t before = cpus[0].counts[VECTOR_TIMER];
    listen_us(3 * us);
    EXPECT_EQ(cpus[0].counts[VECTOR_TIMER], before, "an initial count of 0 does not stop it");
    return NULL;
}

/* 10.5.1: masked, the timer counts and does not interrupt. */
static const char *timer_masked(void)
{
    timer_start(LVT_MASKED | VECTOR_TIMER, 500);
    EXPECT(apic_read(APIC_TIMER_CURRENT) != 0, "the masked timer does not count");
    listen_us(1500);
    EXPECT_EQ(apic_read(APIC_TIMER_CURRENT), 0, "the masked timer did not reach 0");
    EXPECT_EQ(cpus[0].counts[VECTOR_TIMER], 0, "the masked timer interrupts");
    return NULL;
}

/* 10.5.4.1: TSC-deadline mode. */
static const char *deadline(void)
{
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_DEADLINE))
        return skip("CPUID has no TSC-deadline mode");
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    wrmsr(MSR_TSC_DEADLINE, rdtsc());
    EXPECT_EQ((uint32_t)rdmsr(MSR_TSC_DEADLINE), 0, "the MSR holds something in one-shot mode");
    apic_write(APIC_LVT_TIMER, TIMER_DEADLINE | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, 1000);
    EXPECT_EQ(apic_read(APIC_TIMER_CURRENT), 0, "the count runs in deadline mode");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_TIMER], 0, "an interrupt without a deadline");
    uint64_t at = rdtsc() + ticks_of_us(2000);
    wrmsr(MSR_TSC_DEADLINE, at);
    EXPECT(rdmsr(MSR_TSC_DEADLINE) == at, "the MSR does not hold its deadline");
    EXPECT(wait_count(VECTOR_TIMER, 1, BOUND_US), "no interrupt at the deadline");
    EXPECT(cpus[0].last_tsc[VECTOR_TIMER] >= at, "the interrupt came before the deadline");
    EXPECT(rdmsr(MSR_TSC_DEADLINE) == 0, "the MSR is not 0 after the interrupt");
    wrmsr(MSR_TSC_DEADLINE, rdtsc() - 1);
    EXPECT(wait_count(VECTOR_TIMER, 2, BOUND_US), "no interrupt for a deadline in the past");
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + ticks_of_us(SILENCE_US));
    wrmsr(MSR_TSC_DEADLINE, 0);
    listen_us(2 * SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_TIMER], 2, "writing 0 does not disarm");
    return NULL;
}

/* --- x2APIC -------------------------------------------------------------------------------------
 */

static bool has_x2apic(void)
{
    return (cpuid(1, 0).ecx & CPUID_1_ECX_X2APIC) != 0;
}

static const char *x2apic_enter(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);

    EXPECT(rdmsr_faults(MSR_X2APIC + (APIC_VERSION >> 4)), "x2APIC registers answer in xAPIC mode");
    EXPECT(!wrmsr_faults(MSR_APIC_BASE, base | APIC_BASE_X2APIC), "entering x2APIC mode gives #GP");
    this_cpu()->x2apic = true;
    EXPECT(rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC, "IA32_APIC_BASE does not tell of x2APIC mode");
    return NULL;
}

/* 10.12.1, 10.12.5: ways in and out of x2APIC mode. */
static const char *x2apic_mode(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);

    if (!has_x2apic())
        return skip("CPUID has no x2APIC");
    EXPECT(wrmsr_faults(MSR_APIC_BASE, (base | APIC_BASE_X2APIC) & ~(uint64_t)APIC_BASE_ENABLE),
           "x2APIC without global enable: no #GP");
    EXPECT_OK(x2apic_enter());
    EXPECT(wrmsr_faults(MSR_APIC_BASE, base), "from x2APIC straight to xAPIC mode: no #GP");
    EXPECT_EQ(read32(APIC_BASE + APIC_VERSION), 0xffffffff, "the memory answers in x2APIC mode");
    EXPECT(!wrmsr_faults(MSR_APIC_BASE, base & ~(uint64_t)APIC_BASE_ENABLE), "disabling gives #GP");
    this_cpu()->x2apic = false;
    EXPECT(rdmsr_faults(MSR_X2APIC + (APIC_VERSION >> 4)),
           "x2APIC registers answer while disabled");
    EXPECT(wrmsr_faults(MSR_APIC_BASE, base | APIC_BASE_X2APIC),
           "from disabled straight to x2APIC: no #GP");
    wrmsr(MSR_APIC_BASE, base);
    EXPECT_EQ(apic_read(APIC_ID) >> 24, cpus[0].apic_id, "the ID in xAPIC mode again");
    return NULL;
}

/* 10.12.1.2, 10.12.9, 10.12.10, 10.12.11: registers in x2APIC mode. */
static const char *x2apic_registers(void)
{
    if (!has_x2apic())
        return skip("CPUID has no x2APIC");
    uint32_t in_xapic = apic_read(APIC_VERSION);
    EXPECT_OK(x2apic_enter());
    uint32_t id = apic_read(APIC_ID);
    EXPECT_EQ(id, cpus[0].apic_id, "the ID");
    if (cpuid(0, 0).eax >= 0xb && cpuid(0xb, 0).ebx)
        EXPECT_EQ(id, cpuid(0xb, 0).edx, "the ID is not that of CPUID's leaf 0xb");
    EXPECT_EQ(apic_read(APIC_LDR), (id >> 4) << 16 | 1u << (id & 0xf),
              "LDR does not follow from the ID");
    EXPECT_EQ(apic_read(APIC_VERSION) & 0xff00ff, in_xapic & 0xff00ff, "the version");
    EXPECT(wrmsr_faults(MSR_X2APIC + (APIC_VERSION >> 4), 0), "writing the version: no #GP");
    EXPECT(wrmsr_faults(MSR_X2APIC + (APIC_ID >> 4), 0), "writing the ID: no #GP");
    EXPECT(rdmsr_faults(MSR_X2APIC + (APIC_SELF_IPI >> 4)), "reading SELF IPI: no #GP");
    EXPECT(rdmsr_faults(MSR_X2APIC + (APIC_DFR >> 4)), "reading DFR: no #GP");
    EXPECT(rdmsr_faults(MSR_X2APIC + (APIC_ICR_HIGH >> 4)), "reading ICR's upper half: no #GP");
    EXPECT(wrmsr_faults(MSR_X2APIC + (APIC_EOI >> 4), 1), "writing EOI with 1: no #GP");
    EXPECT(wrmsr_faults(MSR_X2APIC + (APIC_TPR >> 4), 0x100), "a reserved bit of TPR: no #GP");
    EXPECT(!wrmsr_faults(MSR_X2APIC + (APIC_TPR >> 4), 0x20), "writing TPR gives #GP");
    EXPECT_EQ(apic_read(APIC_TPR), 0x20, "TPR");
    return NULL;
}

/* 10.12.9, 10.12.11: interrupts in x2APIC mode: SELF IPI, the 64-bit ICR, the timer, EOI. */
static const char *x2apic_interrupts(void)
{
    if (!has_x2apic())
        return skip("CPUID has no x2APIC");
    EXPECT_OK(x2apic_enter());
    apic_write(APIC_SELF_IPI, VECTOR_MID);
    EXPECT(apic_bit(APIC_IRR, VECTOR_MID), "SELF IPI is not in the IRR");
    EXPECT(wait_count(VECTOR_MID, 1, BOUND_US), "SELF IPI");
    EXPECT(!apic_bit(APIC_ISR, VECTOR_MID), "EOI left it in the ISR");
    apic_send(cpus[0].apic_id, VECTOR_MID);
    EXPECT(wait_count(VECTOR_MID, 2, BOUND_US), "ICR, physical destination");
    apic_send(apic_read(APIC_LDR), ICR_LOGICAL | VECTOR_MID);
    EXPECT(wait_count(VECTOR_MID, 3, BOUND_US), "ICR, logical destination");
    apic_send(0xffffffff, VECTOR_MID);
    EXPECT(wait_count(VECTOR_MID, 4, BOUND_US), "ICR, broadcast");
    apic_send(0, ICR_SELF | VECTOR_MID);
    EXPECT(wait_count(VECTOR_MID, 5, BOUND_US), "ICR, shorthand self");
    timer_start(VECTOR_TIMER, 500);
    EXPECT(wait_count(VECTOR_TIMER, 1, BOUND_US), "the timer");
    return NULL;
}

/* --- HLT ----------------------------------------------------------------------------------------
 */

/* HLT ends with an interrupt of the timer, and the instruction after it goes on. The i8254 runs
 * too, so that it ends in any case. */
static const char *halt_timer(void)
{
    const uint32_t us = 1000;

    pic_connect();
    pit_set(0, 2, PIT_HZ / 50);
    pic_unmask(0);
    EXPECT(wait_count(VECTOR_PIC, 1, BOUND_US),
           "the i8254, that would end HLT otherwise, gives no interrupt");
    timer_start(TIMER_PERIODIC | VECTOR_TIMER, us);
    uint32_t timer_before = cpus[0].counts[VECTOR_TIMER], halts = 0;
    for (; cpus[0].counts[VECTOR_TIMER] - timer_before < 10 && halts < 40; halts++)
        halt();
    uint32_t took = (uint32_t)(rdtsc() - timer_started);
    EXPECT(cpus[0].counts[VECTOR_TIMER] - timer_before >= 10, "the timer does not end HLT");
    EXPECT(took >= (uint32_t)ticks_of_us(9 * us), "HLT ended before the interrupt");
    return NULL;
}

const struct check apic_checks[] = {
    {"apic-version", version, false},
    {"apic-registers", registers, false},
    {"apic-software-disable", software_disable, false},
    {"apic-software-masks", software_disable_masks, false},
    {"apic-global-disable", global_disable, false},
    {"apic-task-priority", task_priority, false},
    {"apic-order", order, false},
    {"apic-in-service", in_service, false},
    {"apic-merging", merging, false},
    {"apic-self-ipi", self_ipi, false},
    {"apic-error-register", error_register, false},
    {"apic-error-vector", error_vector, false},
    {"apic-timer-divider", timer_divider, false},
    {"apic-timer-one-shot", timer_one_shot, false},
    {"apic-timer-periodic", timer_periodic, false},
    {"apic-timer-masked", timer_masked, false},
    {"apic-timer-deadline", deadline, false},
    {"x2apic-mode", x2apic_mode, false},
    {"x2apic-registers", x2apic_registers, false},
    {"x2apic-interrupts", x2apic_interrupts, false},
    {"halt-timer", halt_timer, false},
    {0},
};
