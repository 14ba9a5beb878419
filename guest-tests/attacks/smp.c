/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several processors on the same tables: the first rewrites page tables and code while the others
 * walk and run them. What they find may be old until they have flushed, but it must be something
 * that was there; after a flush that all have answered it must be the new.
 */
#include "guest-tests/attacks/attacks.h"
#include "guest-tests/lib/segments.h"

#define AP_PAGE        0x8000ull /* start-up IPIs can name pages below 1 MiB */
#define AP_STACK_BYTES (4 * PAGE)
#define CPUS_MAX       8u
#define ICR_INIT       (5u << 8 | 1u << 14)
#define ICR_SIPI       (6u << 8 | 1u << 14)
#define ID_SHIFT       24
#define LEAF_TOPOLOGY  0xbu
#define PATIENCE_S     20u /* of waiting for another processor, which may have to wait for its turn */

/* ap.S */
struct ap_parameters {
    uint64_t cr3, stack, entry;
    struct table_register gdtr, idtr;
} __attribute__((packed));
extern const char ap_start[], ap_start_end[], ap_cr3[];
bool probe_read(uint64_t at, uint64_t *value);
extern const char probe_fault[];

/* A processor's work: `step` is called on and on while `running`. */
static struct {
    void (*volatile step)(unsigned cpu, uint64_t *random);
    volatile bool running;
    volatile uint32_t epoch; /* whoever sees a new one flushes, checks, and answers */
    volatile uint32_t answer[CPUS_MAX];
    void (*volatile check)(unsigned cpu); /* after that flush */
    const char *volatile wrong;           /* what a processor found */
    volatile uint64_t wrong_at, wrong_value;
    volatile uint32_t started;
    volatile bool busy[CPUS_MAX];
} work;

static unsigned cpus;

static void pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

static void is_wrong(const char *what, uint64_t at, uint64_t value)
{
    work.wrong_at = at;
    work.wrong_value = value;
    work.wrong = what;
}

static void fail_if_wrong(void)
{
    if (work.wrong)
        fail("%s: 0x%x at 0x%x\n", work.wrong, work.wrong_value, work.wrong_at);
}

/* A #PF of probe_read; its entry must be one that is not present. */
static bool on_probe(struct trap *trap)
{
    if (trap->vector != VECTOR_PF || trap->rip != (uint64_t)probe_read)
        return false;
    if (trap->error_code != 0)
        is_wrong("a read of a page that is not present: error code", trap->rdi, trap->error_code);
    trap->rip = (uint64_t)probe_fault;
    return true;
}

static void flush(void)
{
    write_cr3(read_cr3());
}

static void answer_epoch(unsigned cpu)
{
    uint32_t epoch = work.epoch;

    if (work.answer[cpu] == epoch)
        return;
    flush();
    work.check(cpu);
    work.answer[cpu] = epoch;
}

static void ap_main(void)
{
    unsigned cpu = (unsigned)(cpuid(1, 0).ebx >> ID_SHIFT);
    uint64_t random = attack_random(50 + cpu);

    work.started = work.started + 1; /* one at a time is started */
    for (;;) {
        while (!work.running)
            pause();
        work.busy[cpu] = true;
        flush();
        while (work.running) {
            work.step(cpu, &random);
            answer_epoch(cpu);
        }
        work.busy[cpu] = false;
    }
}

static uint64_t patience_ends(void)
{
    return rdtsc() + PATIENCE_S * guest_info->tsc_hz;
}

static void start_one(unsigned cpu)
{
    struct ap_parameters *p = (struct ap_parameters *)(AP_PAGE + (uint64_t)(ap_cr3 - ap_start));
    uint64_t end = patience_ends();

    memcpy((void *)AP_PAGE, ap_start, (size_t)(ap_start_end - ap_start));
    p->cr3 = read_cr3();
    p->stack = run_alloc(AP_STACK_BYTES, PAGE) + AP_STACK_BYTES - 8;
    p->entry = (uint64_t)ap_main;
    __asm__ volatile("sgdt %0" : "=m"(p->gdtr));
    __asm__ volatile("sidt %0" : "=m"(p->idtr));
    apic_write(APIC_ICR_HIGH, cpu << ID_SHIFT);
    apic_write(APIC_ICR, ICR_INIT);
    apic_write(APIC_ICR_HIGH, cpu << ID_SHIFT);
    apic_write(APIC_ICR, ICR_SIPI | (uint32_t)(AP_PAGE >> 12));
    while (work.started < cpu) {
        if (rdtsc() > end)
            fail("processor %u does not start\n", (uint64_t)cpu);
        pause();
    }
}

/* With the tables that are loaded now. False: there is no other processor. */
static bool start_others(void)
{
    if (cpus == 0) {
        cpus = cpuid(LEAF_TOPOLOGY, 1).ebx;
        if (cpus > CPUS_MAX)
            cpus = CPUS_MAX;
        apic_write(APIC_SVR, SVR_ENABLED);
    }
    for (unsigned cpu = work.started + 1; cpu < cpus; cpu++)
        start_one(cpu);
    return cpus > 1;
}

/* Have all others flush, and then check; returns when they have. */
static void shoot_down(void (*check)(unsigned cpu))
{
    uint64_t end = patience_ends();

    work.check = check;
    work.epoch = work.epoch + 1;
    for (unsigned cpu = 1; cpu < cpus; cpu++) {
        while (work.answer[cpu] != work.epoch && !work.wrong) {
            if (rdtsc() > end)
                fail("processor %u does not answer\n", (uint64_t)cpu);
            pause();
        }
    }
    fail_if_wrong();
}

static void begin(void (*step)(unsigned cpu, uint64_t *random))
{
    trap_set_handler(on_probe);
    work.step = step;
    work.running = true;
}

static void nothing(unsigned cpu)
{
    (void)cpu;
}

/* Whoever answers is at work; whoever is not busy any more takes no exception of a step. */
static void end(void)
{
    uint64_t patience = patience_ends();

    shoot_down(nothing);
    work.running = false;
    for (unsigned cpu = 1; cpu < cpus; cpu++) {
        while (work.busy[cpu]) {
            if (rdtsc() > patience)
                fail("processor %u does not end its work\n", (uint64_t)cpu);
            pause();
        }
    }
    machine_catch();
}

/* One root for all cases: that by which the processors were started. */
static uint64_t common_root(void)
{
    static uint64_t root;

    if (!root)
        root = attack_space();
    write_cr3(root);
    return root;
}

/* --- tables ----------------------------------------------------------------------------------- */

#define RACE        (TEST_BASE + 21 * PAGE_1G)
#define RACE_PAGES  48u
#define RACE_ROUNDS 120u
#define CHANGES     40u /* between two flushes */

static uint64_t race_frame[2][RACE_PAGES], race_table[2];
static volatile uint64_t
    race_value[RACE_PAGES]; /* what a page must hold after the flush; 0: fault */

static uint64_t race_at(uint64_t page)
{
    return RACE + page * PAGE;
}

static bool may_be(uint64_t page, uint64_t value)
{
    return value == value_of(page) || value == value_of(page + RACE_PAGES);
}

static void read_any(unsigned cpu, uint64_t *random)
{
    uint64_t page = random_below(random, RACE_PAGES), value;

    if (probe_read(race_at(page), &value) && !may_be(page, value))
        is_wrong("a page that was never mapped there", race_at(page), value);
    /* and a store, so that D is set by all at once; nobody looks at it */
    if (page % 4 == 0)
        *word_at(race_frame[0][page] + 64 * (cpu + 1)) = value;
}

static void check_all(unsigned cpu)
{
    (void)cpu;
    for (uint64_t page = 0; page < RACE_PAGES; page++) {
        uint64_t value = 0, wanted = race_value[page];
        bool found = probe_read(race_at(page), &value);
        if (found != (wanted != 0) || (found && value != wanted))
            is_wrong("after a flush, an old page", race_at(page), value);
    }
}

/* An entry of the table that is linked: another frame, or none. */
static void change_entry(uint64_t table, uint64_t *random)
{
    uint64_t page = random_below(random, RACE_PAGES), which = random_below(random, 3);
    volatile uint64_t *entry = word_at(table + 8 * page);

    *entry = which == 2 ? 0 : race_frame[which][page] | PTE_P | PTE_W;
    race_value[page] = which == 2 ? 0 : value_of(page + which * RACE_PAGES);
}

/* The other table takes the place of the linked one, with the same content or another. */
static uint64_t change_table(volatile uint64_t *link, unsigned *linked, uint64_t *random)
{
    unsigned other = 1 - *linked;

    for (uint64_t page = 0; page < RACE_PAGES; page++)
        *word_at(race_table[other] + 8 * page) = *word_at(race_table[*linked] + 8 * page);
    change_entry(race_table[other], random);
    *link = race_table[other] | PTE_P | PTE_W;
    *linked = other;
    return race_table[other];
}

uint64_t attack_racing_tables(void)
{
    uint64_t root = common_root(), random = attack_random(51), tries = 0;
    unsigned linked = 0;

    if (!start_others())
        return 0;
    for (unsigned which = 0; which < 2; which++) {
        race_table[which] = page_alloc();
        for (uint64_t page = 0; page < RACE_PAGES; page++) {
            race_frame[which][page] = page_alloc();
            *word_at(race_frame[which][page]) = value_of(page + which * RACE_PAGES);
        }
    }
    volatile uint64_t *link = space_entry(root, RACE, 2);
    *link = race_table[0] | PTE_P | PTE_W;
    begin(read_any);
    for (uint64_t round = 0; round < RACE_ROUNDS * attack_rounds; round++) {
        uint64_t changes = random_below(&random, CHANGES);
        for (uint64_t i = 0; i < changes; i++, tries++)
            change_entry(race_table[linked], &random);
        if (random_below(&random, 4) == 0)
            change_table(link, &linked, &random);
        flush();
        shoot_down(check_all);
        check_all(0);
        fail_if_wrong();
    }
    end();
    return tries;
}

/* --- code in a live table --------------------------------------------------------------------- */

#define CODE_REGION (TEST_BASE + 22 * PAGE_1G)
#define CODE_AT     2048u
#define CODE_ROUNDS 4000u /* long enough for the code's table to be in nodes */
#define CODE_VALUES 16u

static uint64_t code_table;
static volatile uint64_t code_value;

/* MOV EAX, imm32; RET, in one aligned word. */
static uint64_t code_word(uint64_t value)
{
    return 0xb8 | value << 8 | 0xc3ull << 40;
}

static uint64_t run_code(void)
{
    return ((uint64_t(*)(void))(code_table + CODE_AT))();
}

static void run_any(unsigned cpu, uint64_t *random)
{
    uint64_t value = run_code();

    (void)cpu;
    if (value >= CODE_VALUES)
        is_wrong("code that was never there gave", code_table + CODE_AT, value);
    if (random_below(random, 16) == 0 && *word_at(CODE_REGION) != value_of(1))
        is_wrong("the page that the code's table maps", CODE_REGION, *word_at(CODE_REGION));
}

static void check_code(unsigned cpu)
{
    (void)cpu;
    uint64_t value = run_code();
    if (value != code_value)
        is_wrong("after a flush, old code gave", code_table + CODE_AT, value);
}

uint64_t attack_racing_code(void)
{
    uint64_t root = common_root(), random = attack_random(52), tries = 0, frame = page_alloc();

    if (!start_others())
        return 0;
    *word_at(frame) = value_of(1);
    space_map(root, CODE_REGION, frame, PTE_W);
    code_table = *space_entry(root, CODE_REGION, 2) & PTE_ADDRESS;
    *word_at(code_table + CODE_AT) = code_word(0);
    begin(run_any);
    for (uint64_t round = 0; round < CODE_ROUNDS * attack_rounds; round++, tries++) {
        code_value = random_below(&random, CODE_VALUES);
        *word_at(code_table + CODE_AT) = code_word(code_value);
        if (round % 4 == 0) {
            shoot_down(check_code);
            check_code(0);
            fail_if_wrong();
        }
    }
    end();
    return tries;
}
