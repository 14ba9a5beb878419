/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tables: what single steps of page-table work cost, where the tables have been stable and their
 * pages in use, so that an adaptive hypervisor shadows them. Only the step itself is timed, less
 * what reading the clock costs; between two steps the region is touched at random for long enough
 * that each step is a rare one. A line "least ..." has the cheapest step.
 *
 *   tables.write  an 8-byte store to an entry of a page table, which leads its page elsewhere
 *   tables.sync   the first access to a page whose entry was written with A clear: a read
 *   tables.dirty  the first write to a page whose entry was written with A set and D clear
 *   tables.cr3    a MOV to CR3 between two address spaces, both much used
 *   tables.fault  a page fault that the guest's own handler answers, from the access to behind it
 *   tables.burst  no pause: 512 entries are written, CR3 is loaded, 512 pages are read; an
 *                 operation is a round of these
 *
 * Arguments: ops=N steps a record (64; the warm-up has as many); gap=N touches of about 25
 * instructions between steps (4000; a fifth of it for tables.cr3 and tables.fault); rounds=N of
 * tables.burst (400).
 */
#include "guest-tests/lib/lib.h"

#define VECTOR_PF      14
#define PAGES          512u        /* one page table's */
#define PLAIN          (PAGES - 1) /* pages that are only touched; the last one is the victim */
#define VICTIM         (TEST_BASE + PLAIN * PAGE)
#define SPACES         2u
#define SETTLE         20u /* gaps of touches before a record, for a hypervisor to settle */
#define CLOCK_READINGS 64u
#define FREQUENT       5u /* steps of which some systems do many: a shorter gap before each */
/* What the victim's frames hold: value_of of this and more. */
#define VALUE_OF_FRAME  0x100000000ull
#define VALUE_OF_SPACE  0x200000000ull
#define VALUE_OF_PARITY 0x400000000ull

static uint64_t space[SPACES];
static unsigned current; /* index of the one in CR3 */
static uint64_t victim_frame[2];
static uint64_t burst_frame[2][PAGES];
static uint64_t random = 1;
static uint64_t clock_cost;

/* --- timing ----------------------------------------------------------------------------------- */

/*
 * Ticks from before `body` to behind it; `prepare` is not timed. `body` may leave something in
 * %[value]. R9 is free for both.
 */
#define TIMED(prepare, body, result, ...)                                                          \
    ({                                                                                             \
        uint64_t ticks_;                                                                           \
        __asm__ volatile(prepare "\n\t"                                                            \
                                 "lfence; rdtsc\n\t"                                               \
                                 "shl $32, %%rdx\n\t"                                              \
                                 "lea (%%rax, %%rdx), %%r8\n\t" body "\n\t"                        \
                                 "lfence; rdtsc\n\t"                                               \
                                 "shl $32, %%rdx\n\t"                                              \
                                 "add %%rdx, %%rax\n\t"                                            \
                                 "sub %%r8, %%rax"                                                 \
                         : "=&a"(ticks_), [value] "=&r"(result)                                    \
                         : __VA_ARGS__                                                             \
                         : "rdx", "r8", "r9", "memory", "cc");                                     \
        ticks_;                                                                                    \
    })

static uint64_t time_nothing(void)
{
    uint64_t none;

    return TIMED("", "", none, "r"(0ull));
}

static uint64_t time_store(uint64_t at, uint64_t what)
{
    uint64_t none;

    return TIMED("", "mov %[what], (%[at])", none, [at] "r"(at), [what] "r"(what));
}

static uint64_t time_load(uint64_t at, uint64_t *value)
{
    return TIMED("", "mov (%[at]), %[value]", *value, [at] "r"(at));
}

static uint64_t time_cr3(uint64_t root)
{
    uint64_t none;

    return TIMED("", "mov %[root], %%cr3", none, [root] "r"(root));
}

/* The handler goes on where R9 says. */
static uint64_t time_fault(uint64_t at)
{
    uint64_t none;

    return TIMED("lea 1f(%%rip), %%r9", "mov (%[at]), %[value]\n1:", none, [at] "r"(at));
}

static void measure_clock(void)
{
    clock_cost = ~0ull;
    for (unsigned n = 0; n < CLOCK_READINGS; n++) {
        uint64_t ticks = time_nothing();
        clock_cost = ticks < clock_cost ? ticks : clock_cost;
    }
}

/* --- the region ------------------------------------------------------------------------------- */

static uint64_t *victim_entry(void)
{
    return space_find(space[current], VICTIM, 1);
}

static uint64_t plain_value(unsigned s, uint64_t i)
{
    return value_of(VALUE_OF_SPACE * s + i);
}

static void touch(uint64_t touches)
{
    for (uint64_t n = 0; n < touches; n++) {
        uint64_t i = random_below(&random, PLAIN);
        uint64_t found = *word_at(TEST_BASE + i * PAGE);
        if (found != plain_value(current, i))
            fail("space %u, page %u holds 0x%x\n", (uint64_t)current, i, found);
    }
}

static void build(void)
{
    for (unsigned s = 0; s < SPACES; s++) {
        space[s] = space_new();
        for (uint64_t i = 0; i < PLAIN; i++) {
            uint64_t frame = page_alloc();
            *word_at(frame) = plain_value(s, i);
            space_map(space[s], TEST_BASE + i * PAGE, frame, PTE_W);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        victim_frame[i] = page_alloc();
        *word_at(victim_frame[i]) = value_of(VALUE_OF_FRAME + i);
    }
    current = 0;
    write_cr3(space[0]);
}

/* --- the steps: each does one, checks it, and returns its ticks ------------------------------- */

static uint64_t step_write(uint64_t n)
{
    uint64_t frame = victim_frame[n & 1];
    uint64_t ticks = time_store((uint64_t)victim_entry(), frame | PTE_P | PTE_W | PTE_A | PTE_D);

    invlpg(VICTIM);
    CHECK_EQ(*word_at(VICTIM), value_of(VALUE_OF_FRAME + (n & 1)), "step %u: the page", n);
    return ticks;
}

static uint64_t step_sync(uint64_t n)
{
    volatile uint64_t *entry = victim_entry();
    uint64_t set = victim_frame[n & 1] | PTE_P | PTE_W;
    uint64_t value;

    *entry = set;
    invlpg(VICTIM);
    touch(ENTRIES);
    CHECK_EQ(*entry, set, "step %u: the entry before the access", n);
    uint64_t ticks = time_load(VICTIM, &value);
    CHECK_EQ(value, value_of(VALUE_OF_FRAME + (n & 1)), "step %u: the page", n);
    CHECK_EQ(*entry, set | PTE_A, "step %u: the entry after the access", n);
    return ticks;
}

static uint64_t step_dirty(uint64_t n)
{
    volatile uint64_t *entry = victim_entry();
    uint64_t set = victim_frame[n & 1] | PTE_P | PTE_W | PTE_A;

    *entry = set;
    invlpg(VICTIM);
    touch(ENTRIES);
    CHECK_EQ(*word_at(VICTIM), value_of(VALUE_OF_FRAME + (n & 1)), "step %u: the page", n);
    CHECK_EQ(*entry, set, "step %u: the entry before the write", n);
    uint64_t ticks = time_store(VICTIM + 8, value_of(n));
    CHECK_EQ(*word_at(victim_frame[n & 1] + 8), value_of(n), "step %u: what was written", n);
    CHECK_EQ(*entry, set | PTE_D, "step %u: the entry after the write", n);
    return ticks;
}

static uint64_t step_cr3(uint64_t n)
{
    current = n & 1;
    uint64_t ticks = time_cr3(space[current]);
    CHECK_EQ(*word_at(TEST_BASE), plain_value(current, 0), "step %u: page 0", n);
    return ticks;
}

/* The least that a kernel can do about a page fault: count it, and go on where R9 says. It has the
 * gate of #PF for itself while it is measured, since saving all registers would be what is measured
 * else. */
extern uint64_t faults;
extern const char least_handler[];
__asm__(".data\n .balign 8\n .globl faults\nfaults: .quad 0\n .text\n"
        ".globl least_handler\n"
        "least_handler: push %rax; mov %cr2, %rax; incq faults(%rip); pop %rax\n"
        "  mov %r9, 8(%rsp); add $8, %rsp; iretq\n");

struct gate {
    uint16_t offset_low, selector;
    uint16_t attributes, offset_middle;
    uint32_t offset_high, zero;
};

/* Gives the handler before. */
static uint64_t set_fault_handler(uint64_t at)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        struct gate *gate;
    } idtr;

    __asm__ volatile("sidt %0" : "=m"(idtr));
    struct gate *gate = &idtr.gate[VECTOR_PF];
    uint64_t before =
        (uint64_t)gate->offset_high << 32 | (uint32_t)gate->offset_middle << 16 | gate->offset_low;
    gate->offset_low = (uint16_t)at;
    gate->offset_middle = (uint16_t)(at >> 16);
    gate->offset_high = (uint32_t)(at >> 32);
    return before;
}

static uint64_t step_fault(uint64_t n)
{
    uint64_t before = faults;
    uint64_t handler = set_fault_handler((uint64_t)least_handler);
    uint64_t ticks = time_fault(VICTIM);

    set_fault_handler(handler);
    CHECK_EQ(faults, before + 1, "step %u: faults", n);
    CHECK_EQ(read_cr2(), VICTIM, "step %u: CR2", n);
    return ticks;
}

/* --- records ---------------------------------------------------------------------------------- */

struct step {
    const char *name;
    uint64_t (*run)(uint64_t n);
    unsigned touches; /* of one step */
    bool frequent;
};

static void record(const struct step *step, enum tf_phase phase, uint64_t ops, uint64_t gap)
{
    uint64_t sum = 0, least = ~0ull;

    bench_watch(TEST_BASE, PLAIN * PAGE, PAGE);
    bench_begin(step->name, phase);
    for (uint64_t n = 0; n < ops; n++) {
        touch(step->frequent ? gap / FREQUENT : gap);
        uint64_t ticks = step->run(n);
        ticks = ticks > clock_cost ? ticks - clock_cost : 0;
        sum += ticks;
        least = ticks < least ? ticks : least;
    }
    bench_end_ticks(ops, sum, ops * (step->touches + (step->frequent ? gap / FREQUENT : gap)));
    bench_audit(TEST_BASE, PLAIN * PAGE, PAGE);
    print("least bench=%s ticks=%u\n", step->name, least);
}

static void run_step(const struct step *step, uint64_t ops, uint64_t gap)
{
    *victim_entry() = 0;
    invlpg(VICTIM);
    touch(SETTLE * gap);
    record(step, TF_PHASE_WARMUP, ops, gap);
    record(step, TF_PHASE_STEADY, ops, gap);
}

/* --- the burst -------------------------------------------------------------------------------- */

static void burst_round(unsigned parity)
{
    volatile uint64_t *table = space_find(space[0], TEST_BASE, 1);

    for (unsigned i = 0; i < PAGES; i++)
        table[i] = burst_frame[parity][i] | PTE_P | PTE_W;
    write_cr3(space[0]);
    for (unsigned i = 0; i < PAGES; i++) {
        if (*word_at(TEST_BASE + i * PAGE) != value_of(VALUE_OF_PARITY * parity + i))
            fail("burst: page %u does not lead to its new frame\n", (uint64_t)i);
    }
}

static void record_burst(enum tf_phase phase, uint64_t rounds)
{
    uint64_t least = ~0ull;

    bench_watch(TEST_BASE, PAGES * PAGE, PAGE);
    bench_begin("tables.burst", phase);
    for (uint64_t n = 0; n < rounds; n++) {
        uint64_t begun = rdtsc();
        burst_round(n & 1);
        uint64_t ticks = rdtsc() - begun;
        least = ticks < least ? ticks : least;
    }
    bench_end_touches(rounds, rounds * (PAGES + 1)); /* the entries are one page */
    bench_audit(TEST_BASE, PAGES * PAGE, PAGE);
    print("least bench=tables.burst ticks=%u\n", least);
}

static void run_burst(uint64_t rounds)
{
    for (unsigned parity = 0; parity < 2; parity++) {
        for (uint64_t i = 0; i < PAGES; i++) {
            burst_frame[parity][i] = page_alloc();
            *word_at(burst_frame[parity][i]) = value_of(VALUE_OF_PARITY * parity + i);
        }
    }
    record_burst(TF_PHASE_WARMUP, rounds);
    record_burst(TF_PHASE_STEADY, rounds);
}

void guest_main(void)
{
    static const struct step steps[] = {
        {"tables.write", step_write, 1, false}, {"tables.sync", step_sync, 1, false},
        {"tables.dirty", step_dirty, 1, false}, {"tables.cr3", step_cr3, 0, true},
        {"tables.fault", step_fault, 1, true},
    };
    uint64_t ops = arg_number("ops", 64);
    uint64_t gap = arg_number("gap", 4000);
    uint64_t rounds = arg_number("rounds", 400);

    args_done();
    if (ops == 0 || rounds == 0)
        fail("ops and rounds must be at least 1\n");
    measure_clock();
    build();
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        run_step(&steps[i], ops, gap);
    current = 0;
    write_cr3(space[0]);
    run_burst(rounds);
}
