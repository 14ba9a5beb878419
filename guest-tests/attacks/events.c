/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions in the worst moments: while another is delivered, with stacks and descriptor tables in
 * live page tables, and code that a trapped store changes under its own feet.
 */
#include "guest-tests/attacks/attacks.h"
#include "guest-tests/lib/segments.h"

#define IST_BROKEN    4u
#define NON_CANONICAL 0x0000900000000000ull
#define STACK_HOLE    (TEST_BASE + 100 * PAGE_1G) /* nothing is mapped there */

#define GATE_SELECTOR_SHIFT 16
#define GATE_SELECTOR       (0xffffull << GATE_SELECTOR_SHIFT)
#define GATE_TYPE_SHIFT     40
#define GATE_TYPE           (0xfull << GATE_TYPE_SHIFT)
#define GATE_TYPE_TASK      0x5ull /* which IA-32e mode has not */
#define GATE_PRESENT        (1ull << 47)
#define GATE_BYTES          16u

static struct table_register read_idtr(void)
{
    struct table_register idtr;

    __asm__ volatile("sidt %0" : "=m"(idtr));
    return idtr;
}

static volatile uint64_t *gate_of(unsigned vector)
{
    return word_at(read_idtr().base + GATE_BYTES * vector);
}

/* --- a second exception while the first is delivered ------------------------------------------ */

/* First exceptions: those of the processor, and those that the hypervisor injects after an exit. */
static void divide_by_zero(void)
{
    __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" : : "a"(1), "d"(0) : "rcx", "cc");
}

static void undefined(void)
{
    __asm__ volatile("ud2");
}

static void undefined_by_exit(void)
{
    __asm__ volatile("vmread %%rax, %%rbx" : : "a"(0ull) : "rbx", "cc");
}

static void breakpoint(void)
{
    __asm__ volatile("int3");
}

static void read_non_canonical(void)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(NON_CANONICAL) : "rax", "memory");
}

static void wrmsr_unknown(void)
{
    wrmsr(0x12345, 0);
}

static void read_unmapped(void)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(STACK_HOLE + PAGE) : "rax", "memory");
}

/* An emulated instruction whose second operand is not there. */
static void copy_to_unmapped(void)
{
    __asm__ volatile("movsq" : : "S"(NO_RAM), "D"(STACK_HOLE + PAGE) : "memory");
}

/* SDM 3A table 6-4 */
enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

static const struct first {
    const char *name;
    void (*code)(void);
    unsigned vector;
    enum class class;
} firsts[] = {
    {"#DE", divide_by_zero, VECTOR_DE, CONTRIBUTORY},
    {"#UD", undefined, VECTOR_UD, BENIGN},
    {"#UD by an exit", undefined_by_exit, VECTOR_UD, BENIGN},
    {"#BP", breakpoint, VECTOR_BP, BENIGN},
    {"#GP", read_non_canonical, VECTOR_GP, CONTRIBUTORY},
    {"#GP by an exit", wrmsr_unknown, VECTOR_GP, CONTRIBUTORY},
    {"#PF", read_unmapped, VECTOR_PF, PAGE_FAULT},
    {"#PF by an exit", copy_to_unmapped, VECTOR_PF, PAGE_FAULT},
};

/* What is wrong with the first one's gate, and what its delivery then meets. */
static void not_present(volatile uint64_t *gate)
{
    *gate &= ~GATE_PRESENT;
}

static void data_selector(volatile uint64_t *gate)
{
    *gate = (*gate & ~GATE_SELECTOR) | (uint64_t)SELECTOR_DATA << GATE_SELECTOR_SHIFT;
}

static void null_selector(volatile uint64_t *gate)
{
    *gate &= ~GATE_SELECTOR;
}

static void task_gate(volatile uint64_t *gate)
{
    *gate = (*gate & ~GATE_TYPE) | GATE_TYPE_TASK << GATE_TYPE_SHIFT;
}

static void on_broken_stack(volatile uint64_t *gate, uint64_t stack)
{
    tss_set_stack(IST_BROKEN, stack);
    *gate |= (uint64_t)IST_BROKEN << 32;
}

static void non_canonical_stack(volatile uint64_t *gate)
{
    on_broken_stack(gate, NON_CANONICAL);
}

static void missing_stack(volatile uint64_t *gate)
{
    on_broken_stack(gate, STACK_HOLE + PAGE);
}

static void stack_too_wide(volatile uint64_t *gate)
{
    on_broken_stack(gate, STACK_HOLE + 3 * PAGE);
}

static const struct second {
    const char *name;
    void (*damage)(volatile uint64_t *gate);
    unsigned vector;
} seconds[] = {
    {"a gate that is not present", not_present, VECTOR_NP},
    {"a gate to a data segment", data_selector, VECTOR_GP},
    {"a gate to no segment", null_selector, VECTOR_GP},
    {"a task gate", task_gate, VECTOR_GP},
    {"a stack that is not canonical", non_canonical_stack, VECTOR_SS},
    {"a stack that is not there", missing_stack, VECTOR_PF},
    {"a stack whose entry has reserved bits", stack_too_wide, VECTOR_PF},
};

/* SDM 3A table 6-5 */
static unsigned expected_vector(const struct first *first, const struct second *second)
{
    bool contributory = second->vector != VECTOR_PF;

    if (first->class == PAGE_FAULT || (first->class == CONTRIBUTORY && contributory))
        return VECTOR_DF;
    return second->vector;
}

static void check_pair(const struct first *first, const struct second *second)
{
    volatile uint64_t *gate = gate_of(first->vector);
    uint64_t good = gate[0];

    second->damage(gate);
    try_run(first->code);
    gate[0] = good;
    CHECK_EQ(caught.vector, expected_vector(first, second), "%s through %s", first->name,
             second->name);
    if (caught.vector == VECTOR_DF)
        CHECK_EQ(caught.error_code, 0, "%s through %s: error code", first->name, second->name);
}

uint64_t attack_delivery(void)
{
    uint64_t tries = 0;
    uint64_t root = attack_space();

    write_cr3(root);
    *space_entry(root, STACK_HOLE, 1) = 0;
    *space_entry(root, STACK_HOLE + 2 * PAGE, 1) = 1ull << 51 | PTE_P | PTE_W;
    for (unsigned f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++) {
        for (unsigned s = 0; s < sizeof(seconds) / sizeof(seconds[0]); s++) {
            check_pair(&firsts[f], &seconds[s]);
            tries++;
        }
    }
    return tries;
}

/* --- what delivery uses lies in a live page table --------------------------------------------- */

#define LIVE          (TEST_BASE + 7 * PAGE_2M) /* a region; its table is `live` */
#define LIVE_PAGES    32u /* of it are mapped; the rest of the table is free */
#define LIVE_ROUNDS   40u
#define LIVE_WAIT_MS  3u
#define MS_PER_SECOND 1000u
#define IST_LIVE      5u
#define FRAME_SS      8u    /* bytes below the stack's top; an error code is at the other end */
#define IDT_AT        2048u /* in the table */

static uint64_t live, live_frame[LIVE_PAGES];

/* A region with a page table, whose upper half is for other things. */
static void live_init(void)
{
    uint64_t root = attack_space();

    for (unsigned i = 0; i < LIVE_PAGES; i++) {
        live_frame[i] = page_alloc();
        *word_at(live_frame[i]) = value_of(i);
        space_map(root, LIVE + i * PAGE, live_frame[i], PTE_W);
    }
    live = *space_entry(root, LIVE, 2) & PTE_ADDRESS;
    write_cr3(root);
    /* long enough for a policy to take the root into nodes */
    uint64_t end = rdtsc() + guest_info->tsc_hz / MS_PER_SECOND * LIVE_WAIT_MS;
    while (rdtsc() < end)
        ;
}

/* The table is walked, so that whoever shadows tables has it in hand again. */
static void live_check(const char *what)
{
    for (unsigned i = 0; i < LIVE_PAGES; i++) {
        CHECK_EQ(*word_at(LIVE + i * PAGE), value_of(i), "%s: page %u of the live table", what,
                 (uint64_t)i);
    }
}

/* An interrupt to itself: unlike an exception it does not come again by itself when its delivery is
 * cut short. */
static void interrupt_itself(void)
{
    apic_write(APIC_ICR, ICR_SELF | VECTOR_INTERRUPT);
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

static const struct first interrupt = {"an interrupt", interrupt_itself, VECTOR_INTERRUPT, BENIGN};

static void live_stack(const struct first *first, uint64_t offset)
{
    volatile uint64_t *gate = gate_of(first->vector);
    uint64_t good = gate[0], top = live + PAGE - offset * 16;

    write_cr3(read_cr3());
    live_check("before a stack in it");
    tss_set_stack(IST_LIVE, top);
    gate[0] = good | (uint64_t)IST_LIVE << 32;
    try_run(first->code);
    gate[0] = good;
    CHECK_EQ(caught.vector, first->vector, "%s on a stack in a live page table", first->name);
    CHECK_EQ(*word_at(top - FRAME_SS), SELECTOR_DATA, "%s: SS in its frame there", first->name);
}

/* The IDT in a live table, one of whose gates comes and goes by trapped stores. */
static void live_idt(void)
{
    struct table_register old = read_idtr(), new = {old.limit, live + IDT_AT};

    memcpy((void *)new.base, (const void *)old.base, old.limit + 1u);
    __asm__ volatile("lidt %0" : : "m"(new));
    live_check("with the IDT in it");
    *gate_of(VECTOR_UD) &= ~GATE_PRESENT;
    try_run(undefined);
    CHECK_EQ(caught.vector, VECTOR_NP, "#UD by an IDT in a live page table, its gate not present");
    *gate_of(VECTOR_UD) |= GATE_PRESENT;
    try_run(undefined_by_exit);
    CHECK_EQ(caught.vector, VECTOR_UD, "#UD by an IDT in a live page table");
    __asm__ volatile("lidt %0" : : "m"(old));
    memset((void *)new.base, 0, old.limit + 1u);
}

uint64_t attack_live_delivery(void)
{
    uint64_t tries = 0, random = attack_random(20);

    apic_write(APIC_SVR, SVR_ENABLED);
    for (uint64_t round = 0; round < LIVE_ROUNDS * attack_rounds; round++) {
        for (unsigned f = 0; f <= sizeof(firsts) / sizeof(firsts[0]); f++, tries++) {
            bool last = f == sizeof(firsts) / sizeof(firsts[0]);
            if (round == 0) /* what was given up for one may stay given up */
                live_init();
            live_stack(last ? &interrupt : &firsts[f], random_below(&random, 16));
        }
        apic_write(APIC_EOI, 0);
        live_idt();
        tries += 2;
        live_check("after stacks and an IDT in it");
    }
    apic_write(APIC_SVR, SVR_DISABLED);
    return tries;
}

/* --- self-modifying code ---------------------------------------------------------------------- */

#define CODE_AT    2048u /* in the live table */
#define WORD_AT    1024u /* likewise: between the entries and the code */
#define SMC_ROUNDS 30u

/*
 * Routines that change the immediate of the MOV behind them to ESI, and return what that MOV then
 * loads. RDI is the address of the immediate (which is not aligned), RSI the value.
 */
#define ROUTINE(name, store)                                                                       \
    extern const char name[], name##_patch[], name##_end[];                                        \
    __asm__(".section .text\n" #name ":\n\t" store "\n\t"                                          \
            ".byte 0xb8\n" #name "_patch: .long 0x11111111\n\t"                                    \
            "ret\n" #name "_end:\n")

ROUTINE(smc_mov, "movl %esi, (%rdi)");
ROUTINE(smc_bytes, "movl %esi, %eax; movb %al, (%rdi); movb %ah, 1(%rdi); shrl $16, %eax;"
                   "movb %al, 2(%rdi); movb %ah, 3(%rdi)");
ROUTINE(smc_xchg, "movl %esi, %eax; xchgl %eax, (%rdi)");
ROUTINE(smc_lock, "movl %esi, %eax; subl (%rdi), %eax; lock addl %eax, (%rdi)");
ROUTINE(smc_stos, "movl %esi, %eax; stosl");
ROUTINE(smc_rep, "pushq %rsi; movq %rsp, %rsi; movl $4, %ecx; rep movsb; popq %rsi");
ROUTINE(smc_mov64, "movl $0xc3, %eax; shlq $32, %rax; movl %esi, %ecx; orq %rcx, %rax;"
                   "movq %rax, (%rdi)"); /* the RET, too; three bytes behind it become 0 */
ROUTINE(smc_shift, "movl %esi, (%rdi); roll $16, (%rdi); roll $16, (%rdi)"); /* not decoded */
ROUTINE(smc_pop, "pushq %rsi; movl $0xc3, 4(%rsp); popq (%rdi)");

static const struct routine {
    const char *name, *start, *patch, *end;
} routines[] = {
    {"MOV", smc_mov, smc_mov_patch, smc_mov_end},
    {"MOVs of bytes", smc_bytes, smc_bytes_patch, smc_bytes_end},
    {"XCHG", smc_xchg, smc_xchg_patch, smc_xchg_end},
    {"LOCK ADD", smc_lock, smc_lock_patch, smc_lock_end},
    {"STOS", smc_stos, smc_stos_patch, smc_stos_end},
    {"REP MOVS", smc_rep, smc_rep_patch, smc_rep_end},
    {"a MOV of 64 bits", smc_mov64, smc_mov64_patch, smc_mov64_end},
    {"ROL", smc_shift, smc_shift_patch, smc_shift_end},
    {"POP", smc_pop, smc_pop_patch, smc_pop_end},
};

/* RDI: a word of the live table; the MOV's own immediate is changed from outside. */
extern const char smc_plain[], smc_plain_patch[], smc_plain_end[];
__asm__(".section .text\nsmc_plain: .byte 0x48, 0xc7, 0x07\n" /* MOV [RDI], imm32 */
        "smc_plain_patch: .long 0x11111111\n\tret\nsmc_plain_end:\n");

static uint32_t run_routine(uint64_t at, uint64_t patch, uint32_t value)
{
    return (uint32_t)((uint64_t(*)(uint64_t, uint64_t))at)(patch, value);
}

/* The routine at `at`, in or across the end of the live table, with several values. */
static void modify_itself(const struct routine *r, uint64_t at, uint64_t *random)
{
    uint64_t patch = at + (uint64_t)(r->patch - r->start);

    memcpy((void *)at, r->start, (size_t)(r->end - r->start));
    for (unsigned n = 0; n < 4; n++) {
        uint32_t value = (uint32_t)random_next(random);
        write_cr3(read_cr3());
        live_check("with code in it");
        CHECK_EQ(run_routine(at, patch, value), value, "code in a live page table, changed by %s",
                 r->name);
    }
    memset((void *)at, 0, (size_t)(r->end - r->start) + 8);
}

/* A store to a table whose code is another each time that it runs there: nothing may be remembered
 * of it. */
static void change_the_store(uint64_t at, uint64_t *random)
{
    uint64_t patch = at + (uint64_t)(smc_plain_patch - smc_plain), word = live + WORD_AT;

    memcpy((void *)at, smc_plain, (size_t)(smc_plain_end - smc_plain));
    for (unsigned n = 0; n < 4; n++) {
        uint32_t value = (uint32_t)random_next(random) & INT32_MAX;
        *(volatile uint32_t *)patch = value;
        write_cr3(read_cr3());
        live_check("with a store in it");
        ((void (*)(uint64_t))at)(word);
        CHECK_EQ(*word_at(word), value, "a store to a live page table, changed since it ran");
        *word_at(word) = 0;
    }
    memset((void *)at, 0, (size_t)(smc_plain_end - smc_plain));
}

uint64_t attack_self_modifying(void)
{
    uint64_t random = attack_random(21), tries = 0;

    /* the frame behind the live table is the code's as well, where it crosses */
    live_init();
    for (uint64_t round = 0; round < SMC_ROUNDS * attack_rounds; round++) {
        for (unsigned i = 0; i < sizeof(routines) / sizeof(routines[0]); i++, tries += 4)
            modify_itself(&routines[i], live + CODE_AT + random_below(&random, 1024), &random);
        change_the_store(live + CODE_AT + random_below(&random, 1024), &random);
        tries += 4;
    }
    return tries;
}
