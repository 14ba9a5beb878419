/* SPDX-License-Identifier: BSD-2-Clause */
/* Exceptions: during delivery of others, and around instructions that exit; what exits must leave
 * alone. */
#include "guest-tests/checks/checks.h"

#define STACK_TEST_BASE  (TEST_BASE + PAGE_1G)
#define IST_SPARE        1u
#define IST_TESTED       2u
#define DR6_BS           (1ull << 14)
#define XCR0_X87_SSE_AVX 7ull

static uint8_t spare_stack[8192] __attribute__((aligned(16)));

static void breakpoint(void)
{
    __asm__ volatile("int3");
}

static void undefined(void)
{
    __asm__ volatile("ud2");
}

static void read_unmapped(void)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(TEST_BASE) : "rax", "memory");
}

static void read_unmapped_without_stack(void)
{
    __asm__ volatile("mov %0, %%rsp; mov (%1), %%rax"
                     :
                     : "r"(STACK_TEST_BASE + 2 * PAGE), "r"(TEST_BASE)
                     : "rax", "memory");
}

/* A gate that is not present: #NP while #PF is delivered makes #DF; while #UD is delivered it stays
 * #NP. */
static void check_gate_not_present(void)
{
    idt_set(VECTOR_DF, true, IST_SPARE);
    idt_set(VECTOR_PF, false, 0);
    try_run(read_unmapped);
    idt_set(VECTOR_PF, true, 0);
    CHECK_EQ(caught.vector, VECTOR_DF, "#PF through a gate that is not present");
    CHECK_EQ(caught.error_code, 0, "error code of #DF");

    idt_set(VECTOR_UD, false, 0);
    try_run(undefined);
    idt_set(VECTOR_UD, true, 0);
    CHECK_EQ(caught.vector, 11, "#UD through a gate that is not present");
    CHECK_EQ(caught.error_code, VECTOR_UD * 8 + 3, "error code of #NP: IDT, external");
}

/* #PF whose frame cannot be pushed: a second #PF, and so #DF. */
static void check_stack_not_present(void)
{
    try_run(read_unmapped_without_stack);
    CHECK_EQ(caught.vector, VECTOR_DF, "#PF on a stack that is not present");
}

/* Delivery to a stack page sets the page's A and D like any other write. */
static void check_stack_marks(void)
{
    uint64_t *entry = space_entry(read_cr3(), STACK_TEST_BASE, 1);

    tss_set_stack(IST_TESTED, STACK_TEST_BASE + PAGE);
    idt_set(VECTOR_UD, true, IST_TESTED);
    *entry = page_alloc() | PTE_P | PTE_W;
    invlpg(STACK_TEST_BASE);
    try_run(undefined);
    idt_set(VECTOR_UD, true, 0);
    CHECK_EQ(caught.vector, VECTOR_UD, "#UD on an interrupt stack");
    CHECK_EQ(*entry & (PTE_A | PTE_D), PTE_A | PTE_D, "A and D of the interrupt stack's page");
}

/* An interrupt stack that is read-only: #PF while #UD is delivered is delivered by itself. */
static void check_stack_read_only(void)
{
    uint64_t *entry = space_entry(read_cr3(), STACK_TEST_BASE, 1);

    idt_set(VECTOR_UD, true, IST_TESTED);
    *entry &= ~(PTE_W | PTE_D);
    invlpg(STACK_TEST_BASE);
    try_run(undefined);
    idt_set(VECTOR_UD, true, 0);
    CHECK_EQ(caught.vector, VECTOR_PF, "#UD on a read-only interrupt stack");
    CHECK_EQ(caught.error_code, 3, "its error code");
    CHECK_EQ(*entry & PTE_D, 0, "D of the read-only stack's page");
    *entry = 0;
    invlpg(STACK_TEST_BASE);
}

/* An exit's emulation that faults half-way: MOVSQ from where no RAM is to a page that is not
 * present. */
static void copy_to_unmapped(void)
{
    __asm__ volatile("movsq" : : "S"(NO_RAM), "D"(TEST_BASE + 24) : "memory");
}

static void check_emulation_faults(void)
{
    try_run(copy_to_unmapped);
    CHECK_EQ(caught.vector, VECTOR_PF, "MOVSQ to a page that is not present");
    CHECK_EQ(caught.error_code, 2, "its error code");
    CHECK_EQ(caught.cr2, TEST_BASE + 24, "its CR2");
}

uint64_t check_delivery(void)
{
    tss_set_stack(IST_SPARE, (uint64_t)spare_stack + sizeof(spare_stack));
    space_entry(read_cr3(), STACK_TEST_BASE, 1);
    space_entry(read_cr3(), TEST_BASE, 1);
    try_run(breakpoint);
    CHECK_EQ(caught.vector, VECTOR_BP, "INT3");
    check_gate_not_present();
    check_stack_not_present();
    check_stack_marks();
    check_stack_read_only();
    check_emulation_faults();
    return 7;
}

/* --- single step over instructions that exit -------------------------------------------------- */

/* Sets TF so that the #DB comes after the one instruction `body`; label 1 is behind it. */
#define STEP(name, body, ...)                                                                      \
    static void name(void)                                                                         \
    {                                                                                              \
        __asm__ volatile("lea 1f(%%rip), %%r11\n\t"                                                \
                         "mov %%r11, %0\n\t"                                                       \
                         "pushfq\n\t"                                                              \
                         "orl $0x100, (%%rsp)\n\t"                                                 \
                         "popfq\n\t" body "\n"                                                     \
                         "1:\n\t"                                                                  \
                         "nop"                                                                     \
                         : "=m"(step_end)                                                          \
                         : "a"(0), "c"(0x8bu), "d"(0x3ff), "S"(NO_RAM), ##__VA_ARGS__              \
                         : "rbx", "r11", "memory", "cc");                                          \
        fail("no #DB after a single step\n");                                                      \
    }

static uint64_t step_end;

STEP(step_nop, "nop")
STEP(step_cpuid, "cpuid")
STEP(step_rdmsr, "rdmsr")
STEP(step_in, "in %%dx, %%al")
STEP(step_no_ram_read, "mov (%%rsi), %%eax")
STEP(step_no_ram_write, "mov %%eax, (%%rsi)")

static uint64_t read_dr6(void)
{
    uint64_t v;

    __asm__ volatile("mov %%dr6, %0" : "=r"(v));
    return v;
}

static void write_dr6(uint64_t v)
{
    __asm__ volatile("mov %0, %%dr6" : : "r"(v));
}

uint64_t check_single_step(void)
{
    static const struct {
        const char *name;
        void (*code)(void);
    } steps[] = {
        {"NOP", step_nop},
        {"CPUID", step_cpuid},
        {"RDMSR", step_rdmsr},
        {"IN", step_in},
        {"a read of no RAM", step_no_ram_read},
        {"a write to no RAM", step_no_ram_write},
    };

    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        write_dr6(0xffff0ff0);
        try_run(steps[i].code);
        CHECK_EQ(caught.vector, VECTOR_DB, "single step over %s", steps[i].name);
        CHECK_EQ(caught.rip, step_end, "RIP of #DB after %s", steps[i].name);
        CHECK_EQ(read_dr6() & DR6_BS, DR6_BS, "DR6.BS after %s", steps[i].name);
    }
    return sizeof(steps) / sizeof(steps[0]);
}

/* --- what exits leave alone ------------------------------------------------------------------- */

/* One of each kind of exit, with RAX, RCX, RDX, RSI as its operands. */
enum { EXIT_CPUID, EXIT_RDMSR, EXIT_IN, EXIT_NO_RAM, EXIT_KINDS };

/* registers.S: loads all registers with a pattern, exits, stores what they then hold. */
struct register_file {
    uint64_t r[16]; /* by encoding; RSP is not touched */
};
extern void registers_across_exit(uint64_t kind, struct register_file *before,
                                  struct register_file *after);

uint64_t check_registers(void)
{
    /* registers that each kind may change: RAX, RBX, RCX, RDX by CPUID and so on */
    static const uint16_t changed[EXIT_KINDS] = {0xf, 0x5, 0x1, 0x1};
    uint64_t debug[4], cases = 0;

    for (uint64_t i = 0; i < 4; i++) {
        uint64_t v = 0x1000 + i;
        if (i == 0)
            __asm__ volatile("mov %0, %%dr0" : : "r"(v));
        else if (i == 1)
            __asm__ volatile("mov %0, %%dr1" : : "r"(v));
        else if (i == 2)
            __asm__ volatile("mov %0, %%dr2" : : "r"(v));
        else
            __asm__ volatile("mov %0, %%dr3" : : "r"(v));
    }
    __asm__ volatile("mov %0, %%cr2" : : "r"(0x123456789abcull));
    for (uint64_t kind = 0; kind < EXIT_KINDS; kind++) {
        struct register_file before, after;
        for (unsigned i = 0; i < 16; i++)
            before.r[i] = value_of(i + 16 * kind);
        before.r[0] = 0;
        before.r[1] = 0x8b;
        before.r[2] = 0x3ff;
        before.r[6] = NO_RAM;
        registers_across_exit(kind, &before, &after);
        for (unsigned i = 0; i < 16; i++) {
            if (i == 4 || (changed[kind] >> i & 1))
                continue;
            CHECK_EQ(after.r[i], before.r[i], "register %u across exit %u", (uint64_t)i, kind);
            cases++;
        }
    }
    __asm__ volatile("mov %%dr0, %0; mov %%dr1, %1; mov %%dr2, %2; mov %%dr3, %3"
                     : "=r"(debug[0]), "=r"(debug[1]), "=r"(debug[2]), "=r"(debug[3]));
    for (uint64_t i = 0; i < 4; i++)
        CHECK_EQ(debug[i], 0x1000 + i, "DR%u across exits", i);
    CHECK_EQ(read_cr2(), 0x123456789abcull, "CR2 across exits");
    return cases + 5;
}

/* vector.S */
extern uint64_t xmm_across_exit(const void *pattern, void *after); /* 16 registers of 16 bytes */
extern uint64_t ymm_across_exit(const void *pattern, void *after); /* 16 registers of 32 bytes */

static uint8_t vector_before[512] __attribute__((aligned(32)));
static uint8_t vector_after[512] __attribute__((aligned(32)));

static void compare_vectors(const char *what, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        CHECK_EQ(vector_after[i], vector_before[i], "%s, byte %u", what, (uint64_t)i);
}

uint64_t check_vector_state(void)
{
    bool has_avx = (cpuid(1, 0).ecx >> 28 & 1) && (cpuid(1, 0).ecx >> 26 & 1);

    for (size_t i = 0; i < sizeof(vector_before); i++)
        vector_before[i] = (uint8_t)(i * 7 + 1);
    write_cr0((read_cr0() & ~(1ull << 2)) | 2);
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    xmm_across_exit(vector_before, vector_after);
    compare_vectors("XMM registers across exits", 256);
    if (!has_avx)
        return 16;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    CHECK_EQ(cpuid(1, 0).ecx >> 27 & 1, 1, "CPUID.OSXSAVE follows CR4");
    __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)XCR0_X87_SSE_AVX), "d"(0));
    ymm_across_exit(vector_before, vector_after);
    compare_vectors("YMM registers across exits", 512);
    return 32;
}
