/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Checks of several processors: their start (SDM 3A 8.4), interrupts between them (10.6), and what
 * they do to the same memory. Without a second processor they are skipped. Each check starts the
 * processors that it needs, and puts them back to wait for a start-up IPI.
 */
#include "guest-tests/multiboot/platform/platform.h"

#define VECTOR_IPI   0x71u
#define VECTOR_REPLY 0x72u
#define VECTOR_SHOOT 0x73u
#define VECTOR_TIMER 0x40u

#define SILENCE_US 300u

#define CR0_PG  (1u << 31)
#define CR4_PSE (1u << 4)
#define PTE_P   1u
#define PTE_W   2u
#define PTE_PS  (1u << 7)
#define WINDOW  0x40000000u
#define PAGE    4096u

#define ADDS       20000u
#define SHOOTDOWNS 20u
#define TIMERS     5u

static const char one_processor[] = "one processor";

static void put_back(void)
{
    for (unsigned i = 1; i < cpu_count; i++)
        cpu_init(&cpus[i]);
}

/* Run `check` with all processors started and halted, waiting for work. */
static const char *with_all(const char *(*check_them)(void))
{
    const char *why = NULL;

    if (cpu_count < 2)
        return skip(one_processor);
    for (unsigned i = 1; i < cpu_count && !why; i++)
        why = cpu_start(&cpus[i]) ? NULL : "a processor does not start";
    if (!why)
        why = check_them();
    put_back();
    return why;
}

static bool all_counted(unsigned vector, uint32_t count, unsigned first)
{
    for (unsigned i = first; i < cpu_count; i++) {
        if (cpus[i].counts[vector] < count)
            return false;
    }
    return true;
}

static uint32_t sum_of(unsigned vector)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < cpu_count; i++)
        sum += cpus[i].counts[vector];
    return sum;
}

static const char *run_on_all_others(void (*work)(struct cpu *cpu))
{
    for (unsigned i = 1; i < cpu_count; i++)
        cpu_give(&cpus[i], work);
    for (unsigned i = 1; i < cpu_count; i++)
        EXPECT(cpu_wait(&cpus[i]), "a processor does not end its work");
    return NULL;
}

/* --- start --------------------------------------------------------------------------------------
 */

static volatile uint32_t ids[CPUS_MAX];
static volatile uint64_t bases[CPUS_MAX];

static void report(struct cpu *cpu)
{
    ids[cpu->index] = apic_read(APIC_ID) >> 24;
    bases[cpu->index] = rdmsr(MSR_APIC_BASE);
}

static const char *check_identity(void)
{
    EXPECT_OK(run_on_all_others(report));
    for (unsigned i = 1; i < cpu_count; i++) {
        EXPECT_EQ(ids[i], cpus[i].apic_id, "the ID in a processor's own APIC is not the MADT's");
        EXPECT(!(bases[i] & APIC_BASE_BSP), "another processor says that it is the BSP");
        EXPECT(bases[i] & APIC_BASE_ENABLE, "another processor's APIC is not enabled");
        EXPECT_EQ(cpus[i].svr_at_start & 0x1ff, 0xff,
                  "another processor's SVR is not as after INIT");
    }
    return NULL;
}

/* 8.4.4: INIT, start-up; each processor has its own ID and one of them is the BSP. */
static const char *start(void)
{
    return with_all(check_identity);
}

static volatile uint32_t beat;

static void count_for_ever(struct cpu *cpu)
{
    (void)cpu;
    for (;;)
        beat++;
}

static bool beat_stands(void)
{
    uint32_t before = beat;

    spin_us(2000);
    return beat == before;
}

static const char *check_init(void)
{
    struct cpu *cpu = &cpus[1];
    uint32_t starts = cpu->starts;

    beat = 0;
    cpu_give(cpu, count_for_ever);
    EXPECT(WAIT_UNTIL(beat > 0, BOUND_US), "the processor does not work");
    cpu_init(cpu);
    EXPECT(WAIT_UNTIL(beat_stands(), BOUND_US), "INIT does not stop a processor");
    apic_send(cpu->apic_id, VECTOR_IPI);
    if (!on_qemu_tcg()) /* whose processors go to the reset vector then */
        apic_send(cpu->apic_id, ICR_NMI);
    spin_us(1000);
    EXPECT_EQ(cpu->counts[VECTOR_IPI] + cpu->counts[VECTOR_NMI], 0,
              "an interrupt wakes it from waiting for start-up");
    EXPECT(cpu_start(cpu), "it does not start again");
    EXPECT_EQ(cpu->starts, starts + 1, "its starts");
    /* A start-up IPI to a processor that does not wait for one is ignored. */
    apic_send(cpu->apic_id, ICR_STARTUP | 8);
    spin_us(2000);
    EXPECT_EQ(cpu->starts, starts + 1, "a start-up IPI started a running processor");
    EXPECT_OK(run_on_all_others(report));
    return NULL;
}

/* 8.4.2, 10.6.1: INIT puts a processor back to wait for a start-up IPI, which alone wakes it. */
static const char *init(void)
{
    return with_all(check_init);
}

/* --- interrupts between processors --------------------------------------------------------------
 */

static void reply(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    apic_send(cpus[0].apic_id, VECTOR_REPLY);
    acknowledge(vector);
}

static const char *check_fixed(void)
{
    set_handler(VECTOR_IPI, reply);
    for (unsigned i = 1; i < cpu_count; i++) {
        EXPECT(apic_send(cpus[i].apic_id, VECTOR_IPI), "the ICR stays busy");
        EXPECT(wait_count(VECTOR_REPLY, i, BOUND_US), "no reply to a fixed interrupt");
        EXPECT_EQ(cpus[i].counts[VECTOR_IPI], 1, "interrupts at the destination");
    }
    listen_us(SILENCE_US);
    EXPECT_EQ(sum_of(VECTOR_IPI), cpu_count - 1, "interrupts everywhere");
    return NULL;
}

/* 10.6.1: fixed interrupts to one processor, which replies. A halted processor wakes for it. */
static const char *fixed(void)
{
    return with_all(check_fixed);
}

static const char *check_broadcast(void)
{
    EXPECT(apic_send(0, ICR_ALL_BUT_SELF | VECTOR_IPI), "the ICR stays busy");
    EXPECT(WAIT_UNTIL(all_counted(VECTOR_IPI, 1, 1), BOUND_US), "all but self: one did not get it");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_IPI], 0, "all but self: the sender got it");
    EXPECT(apic_send(0, ICR_ALL | VECTOR_IPI), "the ICR stays busy");
    EXPECT(wait_count(VECTOR_IPI, 1, BOUND_US), "all: the sender did not get it");
    EXPECT(WAIT_UNTIL(all_counted(VECTOR_IPI, 2, 1), BOUND_US), "all: one did not get it");
    EXPECT(apic_send(0xff, VECTOR_REPLY), "the ICR stays busy");
    EXPECT(wait_count(VECTOR_REPLY, 1, BOUND_US), "physical broadcast: the sender did not get it");
    EXPECT(WAIT_UNTIL(all_counted(VECTOR_REPLY, 1, 1), BOUND_US),
           "physical broadcast: one did not get it");
    EXPECT_EQ(sum_of(VECTOR_IPI), 2 * cpu_count - 1, "interrupts everywhere");
    return NULL;
}

/* 10.6.1: shorthands and the physical broadcast. */
static const char *broadcast(void)
{
    return with_all(check_broadcast);
}

static void set_logical(struct cpu *cpu)
{
    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 1u << (24 + cpu->index % 8));
}

static const char *check_logical(void)
{
    const unsigned some = cpu_count < 8 ? cpu_count : 8;
    const uint32_t everyone = (1u << some) - 1;

    set_logical(&cpus[0]);
    EXPECT_OK(run_on_all_others(set_logical));
    if (cpu_count > 8)
        return skip("more processors than the flat model has");
    EXPECT(apic_send(everyone & ~1u, ICR_LOGICAL | VECTOR_IPI), "the ICR stays busy");
    EXPECT(WAIT_UNTIL(all_counted(VECTOR_IPI, 1, 1), BOUND_US),
           "logical destination: one did not get it");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_IPI], 0, "logical destination: the sender got it");
    for (uint32_t i = 1; i <= 8; i++) {
        EXPECT(apic_send(everyone, ICR_LOGICAL | ICR_LOWEST | VECTOR_REPLY), "the ICR stays busy");
        interrupts_on();
        bool came = WAIT_UNTIL(sum_of(VECTOR_REPLY) >= i, BOUND_US);
        interrupts_off();
        EXPECT(came, "lowest priority: nobody got it");
        spin_us(50);
        EXPECT_EQ(sum_of(VECTOR_REPLY), i, "lowest priority: not one processor got it");
    }
    return NULL;
}

/* 10.6.2.2, 10.6.2.4: logical destinations in the flat model; lowest priority goes to one of them.
 */
static const char *logical(void)
{
    return with_all(check_logical);
}

static void spin_without_interrupts(struct cpu *cpu)
{
    interrupts_off();
    WAIT_UNTIL(cpu->counts[VECTOR_NMI] != 0, BOUND_US);
}

static const char *check_nmi(void)
{
    for (unsigned i = 1; i < cpu_count; i++)
        cpu_give(&cpus[i], spin_without_interrupts);
    spin_us(500);
    for (unsigned i = 1; i < cpu_count; i++) {
        EXPECT(apic_send(cpus[i].apic_id, ICR_NMI), "the ICR stays busy");
        EXPECT(WAIT_UNTIL(cpus[i].counts[VECTOR_NMI] == 1, BOUND_US),
               "no NMI on a processor without interrupts");
    }
    for (unsigned i = 1; i < cpu_count; i++)
        EXPECT(cpu_wait(&cpus[i]), "a processor does not end its work");
    apic_send(0, ICR_ALL_BUT_SELF | ICR_NMI);
    EXPECT(WAIT_UNTIL(all_counted(VECTOR_NMI, 2, 1), BOUND_US), "no NMI on a processor that halts");
    EXPECT_EQ(cpus[0].counts[VECTOR_NMI], 0, "NMIs on the sender");
    EXPECT_OK(check_fixed());
    return NULL;
}

/* 10.6.1: NMIs, whether interrupts are enabled or not, running or halted; afterwards all is as
 * before. */
static const char *nmi(void)
{
    return with_all(check_nmi);
}

/* --- memory -------------------------------------------------------------------------------------
 */

static volatile uint32_t total, plain_total, lock;

static void add(struct cpu *cpu)
{
    (void)cpu;
    for (uint32_t i = 0; i < ADDS; i++) {
        __asm__ volatile("lock incl %0" : "+m"(total));
        while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
            __asm__ volatile("pause");
        plain_total = plain_total + 1;
        __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    }
}

static const char *check_lock(void)
{
    total = plain_total = lock = 0;
    for (unsigned i = 1; i < cpu_count; i++)
        cpu_give(&cpus[i], add);
    add(&cpus[0]);
    for (unsigned i = 1; i < cpu_count; i++)
        EXPECT(cpu_wait(&cpus[i]), "a processor does not end its work");
    EXPECT_EQ(total, cpu_count * ADDS, "additions with LOCK");
    EXPECT_EQ(plain_total, cpu_count * ADDS, "additions under a spin lock");
    return NULL;
}

/* 8.1.2: LOCK and XCHG are atomic between processors. */
static const char *locked(void)
{
    return with_all(check_lock);
}

static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table[1024] __attribute__((aligned(4096)));
static uint32_t pages[2][PAGE / 4] __attribute__((aligned(4096)));

static volatile uint32_t stale, rounds_seen[CPUS_MAX];

static uint32_t address(const volatile void *at)
{
    return (uint32_t)(uintptr_t)at;
}

static void paging_on(void)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(CR4_PSE) : "memory");
    __asm__ volatile("mov %0, %%cr3" : : "r"(address(directory)) : "memory");
    uint32_t cr0;
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" : : "r"(cr0 | CR0_PG) : "memory");
}

static void paging_off(void)
{
    uint32_t cr0;
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" : : "r"(cr0 & ~CR0_PG) : "memory");
    __asm__ volatile("mov %0, %%cr4" : : "r"(0) : "memory");
}

static void shot(struct cpu *cpu, unsigned vector)
{
    (void)cpu;
    __asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
    acknowledge(vector);
}

/* After each shoot-down the window must show its new page; before it, it may show either. */
static void use_window(struct cpu *cpu)
{
    paging_on();
    interrupts_on();
    for (uint32_t round = 0; round <= SHOOTDOWNS; round++) {
        struct deadline d = deadline_in(BOUND_US);
        while (cpu->counts[VECTOR_SHOOT] < round && !is_over(&d))
            (void)read32(WINDOW);
        if (read32(WINDOW) != round % 2)
            __atomic_add_fetch(&stale, 1, __ATOMIC_SEQ_CST);
        rounds_seen[cpu->index] = round + 1;
    }
    interrupts_off();
    paging_off();
}

static bool all_have_seen(uint32_t rounds)
{
    for (unsigned i = 1; i < cpu_count; i++) {
        if (rounds_seen[i] < rounds)
            return false;
    }
    return true;
}

static const char *shoot_down(void)
{
    EXPECT(WAIT_UNTIL(all_have_seen(1), BOUND_US), "a processor does not come to its window");
    for (uint32_t round = 1; round <= SHOOTDOWNS; round++) {
        *(volatile uint32_t *)&table[0] = address(pages[round % 2]) | PTE_P | PTE_W;
        apic_send(0, ICR_ALL_BUT_SELF | VECTOR_SHOOT);
        EXPECT(WAIT_UNTIL(all_have_seen(round + 1), BOUND_US),
               "a processor does not answer a shoot-down");
    }
    return NULL;
}

static const char *check_tlb(void)
{
    for (uint32_t i = 0; i < 1024; i++)
        directory[i] = i << 22 | PTE_P | PTE_W | PTE_PS;
    directory[WINDOW >> 22] = address(table) | PTE_P | PTE_W;
    table[0] = address(pages[0]) | PTE_P | PTE_W;
    pages[0][0] = 0;
    pages[1][0] = 1;
    stale = 0;
    for (unsigned i = 1; i < cpu_count; i++)
        rounds_seen[i] = 0;
    set_handler(VECTOR_SHOOT, shot);
    for (unsigned i = 1; i < cpu_count; i++)
        cpu_give(&cpus[i], use_window);
    EXPECT_OK(shoot_down());
    for (unsigned i = 1; i < cpu_count; i++)
        EXPECT(cpu_wait(&cpus[i]), "a processor does not end its work");
    EXPECT_EQ(stale, 0, "reads through a stale translation after INVLPG");
    return NULL;
}

/* 4.10.5: a translation changed by one processor and invalidated by each other one on request. */
static const char *tlb(void)
{
    return with_all(check_tlb);
}

/* --- HLT and timers on each processor ------------------------------------------------------------
 */

static volatile uint32_t timer_count;

static void halt_with_timer(struct cpu *cpu)
{
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, TIMER_PERIODIC | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, timer_count);
    while (cpu->counts[VECTOR_TIMER] < TIMERS)
        halt();
    apic_write(APIC_TIMER_INITIAL, 0);
}

/* Timer counts of about a millisecond, on the first processor. */
static void measure_timer(void)
{
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_1);
    apic_write(APIC_TIMER_INITIAL, 0xffffffff);
    spin_us(1000);
    timer_count = 0xffffffff - apic_read(APIC_TIMER_CURRENT);
    apic_write(APIC_TIMER_INITIAL, 0);
}

static const char *check_timers(void)
{
    measure_timer();
    EXPECT(timer_count > 0, "the first processor's timer does not count");
    EXPECT_OK(run_on_all_others(halt_with_timer));
    for (unsigned i = 1; i < cpu_count; i++)
        EXPECT(cpus[i].counts[VECTOR_TIMER] >= TIMERS, "a processor's HLT ended without its timer");
    EXPECT_EQ(cpus[0].counts[VECTOR_TIMER], 0, "the first processor got another one's timer");
    return NULL;
}

/* 10.5.4: each processor's own timer ends its HLT, all at once. */
static const char *timers(void)
{
    return with_all(check_timers);
}

/* --- x2APIC -------------------------------------------------------------------------------------
 */

static void to_x2apic(struct cpu *cpu)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    cpu->x2apic = true;
    ids[cpu->index] = apic_read(APIC_ID);
}

static void to_xapic(struct cpu *cpu)
{
    apic_reset(cpu);
}

static const char *check_in_x2apic(void)
{
    for (unsigned i = 1; i < cpu_count; i++)
        EXPECT_EQ(ids[i], cpus[i].apic_id, "a processor's ID in x2APIC mode");
    EXPECT_OK(check_fixed());
    for (unsigned i = 1; i < cpu_count; i++) {
        uint32_t id = cpus[i].apic_id, before = cpus[i].counts[VECTOR_SHOOT];
        apic_send((id >> 4) << 16 | 1u << (id & 0xf), ICR_LOGICAL | VECTOR_SHOOT);
        EXPECT(WAIT_UNTIL(cpus[i].counts[VECTOR_SHOOT] == before + 1, BOUND_US),
               "logical destination");
    }
    apic_send(0, ICR_ALL_BUT_SELF | ICR_NMI);
    EXPECT(WAIT_UNTIL(all_counted(VECTOR_NMI, 1, 1), BOUND_US), "NMI to all but self");
    return NULL;
}

static const char *check_x2apic(void)
{
    EXPECT_OK(run_on_all_others(to_x2apic));
    to_x2apic(&cpus[0]);
    const char *why = check_in_x2apic();
    for (unsigned i = 1; i < cpu_count && !why; i++) {
        cpu_give(&cpus[i], to_xapic);
        why = cpu_wait(&cpus[i]) ? NULL : "a processor does not end its work";
    }
    apic_reset(&cpus[0]);
    EXPECT_OK(why);
    for (unsigned i = 0; i < cpu_count; i++) /* those that came in x2APIC mode */
        cpus[i].counts[VECTOR_IPI] = cpus[i].counts[VECTOR_REPLY] = 0;
    return check_broadcast();
}

/* 10.12: interrupts between processors in x2APIC mode, and in xAPIC mode again. */
static const char *x2apic(void)
{
    if (!(cpuid(1, 0).ecx >> 21 & 1))
        return skip("CPUID has no x2APIC");
    return with_all(check_x2apic);
}

const struct check smp_checks[] = {
    {"smp-start", start, false},
    {"smp-init", init, false},
    {"smp-fixed", fixed, false},
    {"smp-broadcast", broadcast, false},
    {"smp-logical", logical, false},
    {"smp-nmi", nmi, false},
    {"smp-lock", locked, false},
    {"smp-tlb", tlb, false},
    {"smp-timers", timers, false},
    {"smp-x2apic", x2apic, false},
    {0},
};
