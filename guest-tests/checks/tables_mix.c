/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tables-mix: a few pages serve as page tables of any level, linked to each other and to data
 * pages at random, as loops too. Random stores, by random instructions, at random addresses that
 * lead to them, change them; random accesses under random settings of CR0, CR4 and CR3 must then do
 * what a walk of the tables as they are says (hv/paging/walk.c): reach that byte or give that #PF,
 * and set these A and D bits and no others.
 *
 * Each access comes after an INVLPG of its own address, so that nothing that is cached counts.
 */
#include "guest-tests/checks/tables.h"
#include "hv/paging/walk.h"

#define ROOTS       3u
#define TABLES      14u /* of these the first ROOTS are roots */
#define DATA        6u
#define INDICES     5u
#define LEVELS      4u
#define CODE_RET    0xc3u
#define CR3_KEEP    (1ull << 63)
#define ERROR_W     2u
#define ERROR_FETCH 16u

/* What a page table uses of its entries; in all pages these words are what is written to. Slots 0
 * and 2 of the roots are the test's own. */
static const uint64_t index_of[INDICES] = {1, 6, 7, 300, 511};

#define STEPS_A_ROUND 100u /* the argument rounds=N counts these */

static uint64_t random;
static uint64_t table[TABLES], data[DATA];
static unsigned home[TABLES]; /* the level that a table most often serves */
static uint64_t run;          /* 2 MiB, for large pages */
static uint64_t step;

static struct walk_registers registers;
static bool has_pcids, has_smep_, has_smap_;

static uint64_t below(uint64_t n)
{
    return random_below(&random, n);
}

static bool one_in(uint64_t n)
{
    return below(n) == 0;
}

/* --- what must come: the walk, on top of memory that it does not change ----------------------- */

/* Entries that the last walk read, and what it leaves in them. */
struct path {
    unsigned count;
    uint64_t at[LEVELS], value[LEVELS];
};

static uint64_t read_memory(void *context, gpa_t at, unsigned bytes)
{
    struct path *path = context;

    (void)bytes;
    for (unsigned i = 0; i < path->count; i++) {
        if (path->at[i] == at.v) { /* a loop: the same entry at several levels */
            if (path->count < LEVELS) {
                path->at[path->count] = at.v;
                path->value[path->count++] = path->value[i];
            }
            return path->value[i];
        }
    }
    uint64_t value = *word_at(at.v);
    if (path->count < LEVELS) {
        path->at[path->count] = at.v;
        path->value[path->count++] = value;
    }
    return value;
}

static bool swap_memory(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set)
{
    struct path *path = context;

    (void)bytes;
    (void)old;
    for (unsigned i = 0; i < path->count; i++) {
        if (path->at[i] == at.v)
            path->value[i] = set;
    }
    return true;
}

static struct walk_result expect(uint64_t at, unsigned access, struct path *path)
{
    struct walk_memory memory = {
        .context = path, .read = read_memory, .compare_and_swap = swap_memory};

    path->count = 0;
    return walk(&memory, &registers, gva(at), access | WALK_SET_AD);
}

/* --- pages ------------------------------------------------------------------------------------ */

/* The page of ours that holds `gpa`: 0 if none. Only these are written. */
static uint64_t own_page(uint64_t gpa)
{
    uint64_t page = gpa & ~(PAGE - 1);

    for (unsigned i = 0; i < TABLES; i++) {
        if (table[i] == page)
            return page;
    }
    for (unsigned i = 0; i < DATA; i++) {
        if (data[i] == page)
            return page;
    }
    return page >= run && page < run + PAGE_2M ? page : 0;
}

#define WORDS ((TABLES + DATA) * INDICES)

static uint64_t word_address(unsigned n)
{
    unsigned page = n / INDICES;

    return (page < TABLES ? table[page] : data[page - TABLES]) + 8 * index_of[n % INDICES];
}

static void take_all(uint64_t words[WORDS])
{
    for (unsigned n = 0; n < WORDS; n++)
        words[n] = *word_at(word_address(n));
}

static bool on_path(const struct path *path, uint64_t at)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (path->at[i] == at)
            return true;
    }
    return false;
}

static bool walked_no_ram(const struct path *path)
{
    for (unsigned i = 0; i < path->count; i++) {
        if ((path->at[i] & ~(PAGE - 1)) == NO_RAM)
            return true;
    }
    return false;
}

static uint64_t after_walk(const struct path *path, uint64_t at, uint64_t before)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (path->at[i] == at)
            return path->value[i];
    }
    return before;
}

static void show(uint64_t at, const struct path *path)
{
    print("step %u: address 0x%x, cr0 0x%x cr3 0x%x cr4 0x%x, walked", step, at, registers.cr0,
          registers.cr3, registers.cr4);
    for (unsigned i = 0; i < path->count; i++)
        print(" [0x%x] = 0x%x,", path->at[i], path->value[i]);
    print(" ");
}

/*
 * All words that are in use must be as they were, but for what the walk set and for `written`,
 * which now holds `value`. After a fault the processor may have set A on the way, or not.
 */
static void compare_all(const uint64_t words[WORDS], uint64_t at, const struct path *path,
                        bool faulted, uint64_t written, uint64_t value)
{
    for (unsigned n = 0; n < WORDS; n++) {
        uint64_t where = word_address(n), found = *word_at(where);
        uint64_t want = where == written ? value
                        : faulted        ? words[n]
                                         : after_walk(path, where, words[n]);
        bool ahead = tables_speculation && (want & PTE_P) && where != written;
        uint64_t free = (faulted && on_path(path, where)) || ahead ? PTE_A : 0;
        if ((found ^ want) & ~free) {
            show(at, path);
            fail("the word at 0x%x is 0x%x, must be 0x%x\n", where, found, want);
        }
    }
}

/* --- entries at random ------------------------------------------------------------------------ */

static uint64_t random_entry(unsigned level)
{
    uint64_t kind = below(100);
    uint64_t bits = PTE_P | (one_in(6) ? 0 : PTE_W) | (one_in(5) ? 0 : PTE_U) |
                    (one_in(2) ? PTE_A : 0) | (one_in(2) ? PTE_D : 0) | (one_in(10) ? PTE_NX : 0) |
                    (one_in(5) ? PTE_G : 0) | (one_in(4) ? below(128) << 52 : 0);

    if (kind < 4)
        return random_next(&random) & ~PTE_P;
    if (kind < 6 && registers.physical_bits < 52)
        return bits | data[below(DATA)] | 1ull << 51;
    if (kind < 8)
        return bits | NO_RAM;
    if (kind < 12)
        return bits | table[below(TABLES)]; /* of any level */
    if (level == 1)
        return bits | (kind < 30 ? table[below(TABLES)] : data[below(DATA)]);
    if (kind < 25 && level == 2)
        return bits | run | PTE_PS;
    if (kind < 18 && level == 3)
        return bits | PTE_PS;
    for (;;) {
        unsigned n = (unsigned)below(TABLES);
        if (home[n] == level - 1)
            return bits | table[n];
    }
}

/* What may be written to the word at `gpa` of one of our pages. In data pages nothing is an entry
 * that is present: they are tables too, now and then. */
static uint64_t random_word(uint64_t gpa)
{
    for (unsigned i = 0; i < TABLES; i++) {
        if (table[i] == (gpa & ~(PAGE - 1)))
            return random_entry(home[i]);
    }
    return random_next(&random) & ~PTE_P;
}

static uint64_t random_address(void)
{
    uint64_t at = 0;

    for (unsigned level = LEVELS; level >= 1; level--)
        at = at << 9 | index_of[below(INDICES)];
    at = at << 12;
    return at >> 47 ? at | 0xffffull << 48 : at;
}

/* An address that leads somewhere, if a few attempts find one. */
static uint64_t good_address(unsigned access)
{
    struct path path;
    uint64_t at = random_address();

    for (unsigned n = 0; n < 6 && expect(at, access, &path).status != WALK_OK; n++)
        at = random_address();
    return at;
}

/* --- the steps -------------------------------------------------------------------------------- */

/* A store of a random word through a random address; by the one-to-one map if that is not to be. */
static void store_step(void)
{
    uint64_t page = good_address(WALK_WRITE), at = page + 8 * index_of[below(INDICES)];
    unsigned form = (unsigned)below(store_forms());
    uint64_t words[WORDS];
    struct path path;
    struct walk_result result = expect(at, WALK_WRITE, &path);
    bool own = false;

    if (one_in(3) || result.status != WALK_OK || !own_page(result.gpa.v)) {
        at = word_address((unsigned)below(TABLES * INDICES));
        store_by(form, at, random_word(at));
        return;
    }
    /* In a page that its own walk goes through, only what stores at once is sure of its result. */
    for (unsigned i = 0; i < path.count; i++)
        own |= (path.at[i] & ~(PAGE - 1)) == (result.gpa.v & ~(PAGE - 1));
    while (own && !store_is_single(form))
        form = (unsigned)below(store_forms());
    uint64_t value = random_word(result.gpa.v);
    take_all(words);
    invlpg(at);
    store_blind(form, at, value);
    if (*word_at(result.gpa.v) != value) {
        show(at, &path);
        fail("%s left 0x%x at 0x%x, must be 0x%x\n", store_name(form), *word_at(result.gpa.v),
             result.gpa.v, value);
    }
    compare_all(words, at, &path, false, result.gpa.v, value);
}

/* An access of checks.h: reads and writes go to + 8, writes write zeros. */
static void access_step(void)
{
    enum access access = (enum access)below(3);
    bool user = one_in(2), ac = (registers.cr4 & CR4_SMAP) && one_in(2);
    unsigned kind = user ? WALK_USER : 0;
    uint64_t words[WORDS];
    struct path path;

    uint64_t page = one_in(4) ? random_address() : good_address(kind);
    uint64_t touched = access == ACCESS_FETCH ? page : page + 8 * index_of[below(INDICES)];
    registers.rflags = ac ? RFLAGS_AC : 0;
    struct walk_result result = expect(touched,
                                       kind | (access == ACCESS_WRITE   ? WALK_WRITE
                                               : access == ACCESS_FETCH ? WALK_FETCH
                                                                        : 0),
                                       &path);
    bool good = result.status == WALK_OK;
    if (good && access == ACCESS_WRITE && !own_page(result.gpa.v)) {
        registers.rflags = 0;
        return;
    }
    if (good && access == ACCESS_FETCH && *(volatile uint8_t *)result.gpa.v != CODE_RET) {
        registers.rflags = 0;
        return;
    }
    take_all(words);
    invlpg(touched);
    bool passed = try_access(access == ACCESS_FETCH ? touched : touched - 8, access, user, ac);
    /* Where a table has no RAM, VT-x does not say what the access was that walked there. */
    uint64_t ignored = walked_no_ram(&path) ? ERROR_W | ERROR_FETCH : 0;
    if (passed != good || (!good && (caught.vector != VECTOR_PF || caught.cr2 != touched ||
                                     ((caught.error_code ^ result.error_code) & ~ignored) != 0))) {
        show(touched, &path);
        print("%s by %s, AC %u: ",
              access == ACCESS_READ    ? "read"
              : access == ACCESS_WRITE ? "write"
                                       : "fetch",
              user ? "user" : "supervisor", (uint64_t)ac);
        fail("exception %u (255: none), error code 0x%x, cr2 0x%x; due is %s 0x%x\n", caught.vector,
             caught.error_code, caught.cr2, good ? "none" : "#PF with error code",
             (uint64_t)(good ? 0 : result.error_code));
    }
    uint64_t written = good && access == ACCESS_WRITE ? result.gpa.v : 0;
    compare_all(words, touched, &path, !good, written, 0);
    registers.rflags = 0;
    if (written)
        CHECK_EQ(*word_at(written), 0, "step %u: what was written at 0x%x", step, touched);
    /* What the address holds: readable now as it was then, if the supervisor may. */
    if (good && access == ACCESS_READ && expect(touched, 0, &path).status == WALK_OK) {
        uint64_t found = *word_at(touched);
        if (found != *word_at(result.gpa.v)) {
            show(touched, &path);
            fail("0x%x can be read there, must be 0x%x from 0x%x\n", found, *word_at(result.gpa.v),
                 result.gpa.v);
        }
    }
}

static void load_cr3(void)
{
    uint64_t keep = (registers.cr4 & CR4_PCIDE) && one_in(2) ? CR3_KEEP : 0;

    registers.cr3 = table[below(ROOTS)];
    if (registers.cr4 & CR4_PCIDE)
        registers.cr3 |= below(4);
    write_cr3(registers.cr3 | keep);
}

static void control_step(void)
{
    uint64_t bit = 0;

    switch (below(5)) {
    case 0:
        registers.cr0 ^= CR0_WP;
        write_cr0(registers.cr0);
        return;
    case 1:
        bit = CR4_PGE;
        break;
    case 2:
        bit = has_smep_ ? CR4_SMEP : 0;
        break;
    case 3:
        bit = has_smap_ ? CR4_SMAP : 0;
        break;
    default:
        bit = has_pcids ? CR4_PCIDE : 0;
    }
    if (bit == CR4_PCIDE) { /* which can be set with PCID 0 only */
        registers.cr3 &= PTE_ADDRESS;
        write_cr3(registers.cr3);
    }
    registers.cr4 ^= bit;
    write_cr4(registers.cr4);
}

/* A time in which a few addresses are read and nothing else happens. */
static void quiet_step(void)
{
    struct path path;
    uint64_t at[4], gpa[4], reads = one_in(3) ? 5000 : 300;
    unsigned count = 0;

    for (unsigned n = 0; n < 4; n++) {
        uint64_t to = good_address(0) + 8 * index_of[0];
        struct walk_result result = expect(to, 0, &path);
        if (result.status == WALK_OK) {
            at[count] = to;
            gpa[count++] = result.gpa.v;
            invlpg(to);
        }
    }
    for (uint64_t n = 0; count > 0 && n < reads; n++) {
        unsigned i = (unsigned)below(count);
        uint64_t found = *word_at(at[i]);
        if (found != *word_at(gpa[i])) {
            expect(at[i], 0, &path);
            show(at[i], &path);
            fail("0x%x can be read there in a quiet time, must be 0x%x from 0x%x\n", found,
                 *word_at(gpa[i]), gpa[i]);
        }
    }
}

/* --- the group -------------------------------------------------------------------------------- */

static void set_up(uint64_t first_root)
{
    run = run_alloc(PAGE_2M, PAGE_2M);
    for (uint64_t at = run; at < run + PAGE_2M; at += PAGE)
        *word_at(at) = CODE_RET;
    for (unsigned i = 0; i < DATA; i++) {
        data[i] = page_alloc();
        *word_at(data[i]) = CODE_RET;
    }
    for (unsigned i = 0; i < TABLES; i++) {
        table[i] = i < ROOTS ? space_new() : page_alloc();
        home[i] = i < ROOTS ? 4 : 3 - (i - ROOTS) % 3;
        if (i < ROOTS)
            *word_at(table[i] + 8 * 2) = *word_at(first_root + 8 * 2);
        else
            *word_at(table[i]) = CODE_RET;
    }
    for (unsigned n = 0; n < TABLES * INDICES; n++)
        *word_at(word_address(n)) = random_entry(home[n / INDICES]);
    for (unsigned n = TABLES * INDICES; n < WORDS; n++)
        *word_at(word_address(n)) = random_word(word_address(n));
}

uint64_t check_tables_mix(void)
{
    uint64_t first_root = read_cr3(), cr0 = read_cr0(), cr4;

    random = tables_seed;
    stores_init();
    cr4 = read_cr4();
    has_pcids = has_pcid();
    has_smep_ = has_smep();
    has_smap_ = has_smap();
    registers = (struct walk_registers){
        .cr0 = cr0,
        .cr4 = cr4,
        .efer = rdmsr(MSR_EFER),
        .physical_bits = cpuid(0x80000008, 0).eax & 0xff,
        .has_1g_pages = has_1g_pages(),
    };
    set_up(first_root);
    registers.cr3 = table[0];
    write_cr3(table[0]);
    for (step = 0; step < tables_rounds * STEPS_A_ROUND; step++) {
        uint64_t kind = below(200);
        if (kind < 70)
            store_step();
        else if (kind < 190)
            access_step();
        else if (kind < 196)
            load_cr3();
        else if (kind < 198)
            control_step();
        else
            quiet_step();
    }
    write_cr3(table[0]); /* PCID 0, as PCIDE wants it to be cleared */
    write_cr4(cr4);
    write_cr0(cr0);
    write_cr3(first_root);
    return step;
}
