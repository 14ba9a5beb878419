/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tables: live page tables, used in the ways that are hard for a hypervisor that shadows them. Each
 * of the `acts` does one such thing to a small address space, checks what must follow, and puts
 * everything back. They run in random order, each some hundred times, with pauses of many lengths
 * in which the region is only read, so that an adaptive hypervisor changes its mind in between and
 * in the middle.
 *
 * What is changed is invalidated before it is used, as a processor wants it (SDM 3A 4.10.4).
 */
#include "guest-tests/checks/tables.h"

/* Slot 0 of the root is the one-to-one map, 1 and 3 the tests', 2 user code (machine.c). */
#define RECURSIVE_SLOT 510ull
#define USER_CODE      0x10000000000ull
#define REGION         TEST_BASE                 /* PAGES pages, whose frames are frame[] */
#define REGION_AGAIN   (TEST_BASE + 1 * PAGE_1G) /* the region's page table, linked once more */
#define ALIAS          (TEST_BASE + 2 * PAGE_1G) /* 4-KiB pages that are page tables */
#define USER_ALIAS     (ALIAS + PAGE)
#define STACK_ALIAS    (ALIAS + 2 * PAGE)
#define SCRATCH        (TEST_BASE + 3 * PAGE_1G) /* a page table of its own, for an act to fill */
#define TWO_LEVELS     (TEST_BASE + 4 * PAGE_1G) /* and the following GiB */
#define LARGE          (TEST_BASE + 8 * PAGE_1G)
#define GIANT          (TEST_BASE + 16 * PAGE_1G)
#define MANY           0x18000000000ull /* slot 3: one page of each of many roots */

#define PAGES       512u
#define LEVELS      4u
#define ROOTS       128u
#define IST_LIVE    3u
#define CODE_RET    0xc3u
#define DR6_BS      (1ull << 14)
#define VALUE_AT    16u /* in a frame: where its value is; byte 0 is a RET, 8 is for try_access */
#define FULL_BITS   (PTE_P | PTE_W | PTE_U)
#define CR3_KEEP    (1ull << 63)
#define ERROR_P     1u
#define ERROR_W     2u
#define ERROR_U     4u
#define ERROR_RSVD  8u
#define ERROR_FETCH 16u

uint64_t tables_seed = 1;
uint64_t tables_rounds = 300;
uint64_t tables_speculation;

static uint64_t random;
static uint64_t first_root, root;
static unsigned physical_bits;
static uint64_t frame[PAGES];
static uint64_t table;   /* the region's page table */
static uint64_t scratch; /* the page table at SCRATCH */

/* --- small things ----------------------------------------------------------------------------- */

static uint64_t below(uint64_t n)
{
    return random_below(&random, n);
}

static uint64_t page_at(uint64_t i)
{
    return REGION + i * PAGE;
}

static volatile uint64_t *entry_of(uint64_t i)
{
    return word_at(table + 8 * i);
}

static void make_frame(uint64_t at, uint64_t value)
{
    *word_at(at) = CODE_RET;
    *word_at(at + VALUE_AT) = value;
}

static uint64_t new_frame(uint64_t value)
{
    uint64_t at = page_alloc();

    make_frame(at, value);
    return at;
}

static uint64_t held(uint64_t at)
{
    return *word_at(at + VALUE_AT);
}

static void flush(void)
{
    write_cr3(root);
}

/* The address by which the recursive slot shows the entry of `level` for `at`. */
static uint64_t recursive(uint64_t at, unsigned level)
{
    for (unsigned l = 0; l < level; l++)
        at = (at >> 9 & 0x7ffffffff8ull) | RECURSIVE_SLOT << 39;
    return at | 0xffffull << 48;
}

/* One of the addresses by which entry `i` of the region's page table can be reached. */
static uint64_t any_alias(uint64_t i)
{
    switch (below(3)) {
    case 0:
        return ALIAS + 8 * i;
    case 1:
        return recursive(page_at(i), 1);
    default:
        return table + 8 * i;
    }
}

static void store_any(uint64_t at, uint64_t value)
{
    store_by((unsigned)below(store_forms()), at, value);
}

/* `at` must give a #PF with that code. */
static void must_fault(uint64_t at, enum access access, bool user, uint64_t error, const char *what)
{
    uint64_t touched = access == ACCESS_FETCH ? at : at + 8;

    if (try_access(at, access, user, false))
        fail("%s: an access to 0x%x passed, #PF with error code 0x%x is due\n", what, at, error);
    CHECK_EQ(caught.vector, VECTOR_PF, "%s: exception", what);
    CHECK_EQ(caught.error_code, error, "%s: error code", what);
    CHECK_EQ(caught.cr2, touched, "%s: CR2", what);
}

static void must_pass(uint64_t at, enum access access, bool user, const char *what)
{
    if (!try_access(at, access, user, false))
        fail("%s: an access to 0x%x gave exception %u, error code 0x%x, cr2 0x%x; none is due\n",
             what, at, caught.vector, caught.error_code, caught.cr2);
}

/* Reads at random: a time in which nothing changes. */
static void quiet(uint64_t reads)
{
    for (uint64_t n = 0; n < reads; n++) {
        uint64_t i = below(PAGES);
        CHECK_EQ(held(page_at(i)), value_of(i), "page %u in a quiet time", i);
    }
}

static void pause_between(void)
{
    static const uint64_t reads[] = {0, 0, 0, 0, 20, 100, 1000, 6000};

    quiet(reads[below(sizeof(reads) / sizeof(reads[0]))]);
}

/* Two pages of the region swap their frames, by any stores through any aliases; and back. */
static void swap(uint64_t i, uint64_t j)
{
    uint64_t a = *entry_of(i), b = *entry_of(j);

    store_any(any_alias(i), b);
    store_any(any_alias(j), a);
    invlpg(page_at(i));
    invlpg(page_at(j));
}

static void check_page(uint64_t i, uint64_t owner, const char *what)
{
    CHECK_EQ(held(page_at(i)), value_of(owner), "%s: page %u", what, i);
}

static void swap_and_back(const char *what)
{
    uint64_t i = below(PAGES), j = below(PAGES);

    swap(i, j);
    check_page(i, j, what);
    check_page(j, i, what);
    if (below(4) == 0) {
        for (unsigned n = 0; n < 500; n++)
            check_page(i, j, what);
    }
    swap(i, j);
    check_page(i, i, what);
    check_page(j, j, what);
}

/* --- the acts: structure ---------------------------------------------------------------------- */

static void act_stores(void)
{
    swap_and_back("entries swapped by any stores");
}

/* The recursive slot shows every level as the one-to-one map does. */
static void act_recursive(void)
{
    uint64_t i = below(PAGES);

    for (unsigned level = 1; level <= LEVELS; level++) {
        uint64_t found = *word_at(recursive(page_at(i), level));
        CHECK_EQ(found, *space_find(root, page_at(i), level), "level %u by the recursive slot",
                 (uint64_t)level);
    }
    /* The directory's entry leads to another table and back, by the recursive slot itself. */
    uint64_t directory = recursive(REGION, 2), old = *word_at(directory);
    uint64_t other = page_alloc();
    for (unsigned n = 0; n < PAGES; n++)
        *word_at(other + 8 * n) = *entry_of(PAGES - 1 - n);
    store_any(directory, other | FULL_BITS);
    invlpg(page_at(i));
    check_page(i, PAGES - 1 - i, "a table exchanged through the recursive slot");
    invlpg(recursive(page_at(i), 1));
    CHECK_EQ(*word_at(recursive(page_at(i), 1)) & PTE_ADDRESS, frame[PAGES - 1 - i],
             "the entry of page %u, by the recursive slot", i);
    store_any(directory, old);
    flush();
    check_page(i, i, "the old table again");
    page_free(other);
}

/* A page that is a page table and a page directory at once: what it leads to is data to one walk
 * and a page table to the other. */
static void act_two_levels(void)
{
    uint64_t shared = page_alloc(), leaf = page_alloc();
    uint64_t k = below(ENTRIES), n = below(ENTRIES);
    uint64_t i = below(PAGES), j = below(PAGES);
    uint64_t as_table = TWO_LEVELS + k * PAGE;
    uint64_t as_directory = TWO_LEVELS + PAGE_1G + k * PAGE_2M + n * PAGE;

    *word_at(shared + 8 * k) = leaf | FULL_BITS;
    *word_at(leaf + 8 * n) = frame[i] | FULL_BITS;
    *space_entry(root, TWO_LEVELS, 2) = shared | FULL_BITS;
    *space_entry(root, TWO_LEVELS + PAGE_1G, 3) = shared | FULL_BITS;
    CHECK_EQ(held(as_directory), value_of(i), "a page below a directory that is a table too");
    CHECK_EQ(*word_at(as_table + 8 * n) & PTE_ADDRESS, frame[i], "its entry, as data");
    /* A store to the page that the one walk ends at changes what the other walk finds. */
    store_any(as_table + 8 * n, frame[j] | FULL_BITS);
    invlpg(as_directory);
    CHECK_EQ(held(as_directory), value_of(j), "the page after a store through the table");
    /* One store to the shared page changes both. */
    uint64_t other = page_alloc();
    *word_at(other + 8 * n) = frame[i] | FULL_BITS;
    store_any(shared + 8 * k, other | FULL_BITS);
    invlpg(as_table);
    invlpg(as_directory);
    CHECK_EQ(held(as_directory), value_of(i), "the page after a store to the shared table");
    CHECK_EQ(*word_at(as_table + 8 * n) & PTE_ADDRESS, frame[i], "its entry then, as data");
    *space_entry(root, TWO_LEVELS, 2) = 0;
    *space_entry(root, TWO_LEVELS + PAGE_1G, 3) = 0;
    flush();
    page_free(shared);
    page_free(leaf);
    page_free(other);
}

/* One page table under two directory entries and under two roots: a store is seen by all walks. */
static void act_two_links(void)
{
    static uint64_t second_root;
    uint64_t i = below(PAGES), j = below(PAGES);

    if (!second_root) {
        second_root = space_new();
        *space_entry(second_root, USER_CODE, 4) = *space_entry(root, USER_CODE, 4);
        *space_entry(second_root, REGION, 2) = table | FULL_BITS;
    }
    swap(i, j);
    invlpg(REGION_AGAIN + i * PAGE);
    check_page(i, j, "a table under two roots, by the one");
    CHECK_EQ(held(REGION_AGAIN + i * PAGE), value_of(j), "a table linked twice, page %u", i);
    write_cr3(second_root);
    for (unsigned n = 0; n < 20; n++) {
        check_page(i, j, "a table under two roots, by the other");
        check_page(j, i, "a table under two roots, by the other");
    }
    /* Back again, while the second root is in use: by the one-to-one map only. */
    uint64_t a = *entry_of(i), b = *entry_of(j);
    store_any((uint64_t)entry_of(i), b);
    store_any((uint64_t)entry_of(j), a);
    invlpg(page_at(i));
    invlpg(page_at(j));
    check_page(i, i, "swapped under the second root");
    write_cr3(root);
    check_page(i, i, "swapped under the second root, by the first");
    CHECK_EQ(held(REGION_AGAIN + j * PAGE), value_of(j), "the same, linked twice");
}

/* Tables that are freed, used as data, and are tables again. */
static void act_reuse(void)
{
    uint64_t i = below(PAGES);

    for (unsigned n = 0; n < 4; n++) {
        uint64_t page = page_alloc();
        uint64_t at = LARGE + below(8) * PAGE_2M;
        for (unsigned k = 0; k < ENTRIES; k++)
            *word_at(page + 8 * k) = frame[(i + k) % PAGES] | FULL_BITS;
        *space_entry(root, at, 2) = page | FULL_BITS;
        invlpg(at + i * PAGE);
        CHECK_EQ(held(at + i * PAGE), value_of((i + i) % PAGES), "a page of a new table");
        *space_entry(root, at, 2) = 0;
        invlpg(at + i * PAGE);
        must_fault(at + i * PAGE, ACCESS_READ, false, 0, "a page of a table that was taken away");
        uint64_t count = ENTRIES, to = page;
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value_of(n)) : "memory");
        for (unsigned k = 0; k < ENTRIES; k++)
            CHECK_EQ(*word_at(page + 8 * k), value_of(n), "a former table as data");
        page_free(page); /* and so the next one that is allocated */
    }
}

/* --- the acts: stores that are not plain ones ------------------------------------------------- */

/* A store across two entries. */
static void act_straddle_entries(void)
{
    uint64_t i = below(PAGES - 1);
    uint64_t at = any_alias(i) + 4;
    uint64_t a = *entry_of(i), b = *entry_of(i + 1);
    uint64_t new_b = (b & ~0xffffffffull) | ((frame[(i + 2) % PAGES] | FULL_BITS) & 0xffffffff);
    uint64_t middle = (a | PTE_NX) >> 32 | new_b << 32;

    switch (below(4)) {
    case 0:
        __asm__ volatile("movq %1, (%0)" : : "r"(at), "r"(middle) : "memory");
        break;
    case 1:
        __asm__ volatile("xchgq %1, (%0)" : : "r"(at), "r"(middle) : "memory");
        break;
    case 2:
        __asm__ volatile("xorq %1, (%0)" : : "r"(at), "r"(*word_at(at) ^ middle) : "memory", "cc");
        break;
    default: {
        uint64_t from = (uint64_t)&middle, to = at, count = 8;
        __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    }
    }
    invlpg(page_at(i));
    invlpg(page_at(i + 1));
    CHECK_EQ(*entry_of(i), a | PTE_NX, "the first entry that a store straddles");
    CHECK_EQ(*entry_of(i + 1), new_b, "the second entry that a store straddles");
    check_page(i + 1, (i + 2) % PAGES, "behind a store across two entries");
    must_fault(page_at(i), ACCESS_FETCH, false, ERROR_P | ERROR_FETCH, "NX by such a store");
    *entry_of(i) = a;
    *entry_of(i + 1) = b;
    invlpg(page_at(i));
    invlpg(page_at(i + 1));
    must_pass(page_at(i), ACCESS_FETCH, false, "NX taken away");
    check_page(i + 1, i + 1, "after a store across two entries");
}

/*
 * A store across two pages, of which the first, the second or both are page tables: its lower half
 * goes to the upper half of the last entry of one, its upper half to the lower half of the first
 * entry of the other.
 */
static void act_straddle_pages(void)
{
    uint64_t pages[2], old[2], want[2];
    uint64_t tables = 1 + below(3); /* bit 0: the first, bit 1: the second */
    uint64_t data = page_alloc();

    pages[0] = tables & 1 ? table : data;
    pages[1] = tables & 2 ? (tables & 1 ? scratch : table) : data;
    uint64_t at = SCRATCH + 100 * PAGE; /* two pages of the scratch table, side by side */
    *word_at(scratch) = frame[0] | FULL_BITS;
    for (unsigned n = 0; n < 2; n++) {
        *word_at(scratch + 8 * (100 + n)) = pages[n] | PTE_P | PTE_W;
        invlpg(at + n * PAGE);
    }
    invlpg(SCRATCH);
    CHECK_EQ(held(SCRATCH), value_of(0), "page 0 of the scratch table");
    uint64_t last = pages[0] + PAGE - 8, first = pages[1];
    old[0] = *word_at(last);
    old[1] = *word_at(first);
    want[0] = old[0] ^ PTE_NX;
    want[1] = (old[1] & ~0xffffffffull) | ((frame[7] | FULL_BITS) & 0xffffffff);
    uint64_t middle = want[0] >> 32 | want[1] << 32;
    switch (below(3)) {
    case 0:
        __asm__ volatile("movq %1, (%0)" : : "r"(at + PAGE - 4), "r"(middle) : "memory");
        break;
    case 1:
        __asm__ volatile("addq %1, (%0)"
                         :
                         : "r"(at + PAGE - 4), "r"(middle - *word_at(at + PAGE - 4))
                         : "memory", "cc");
        break;
    default:
        __asm__ volatile("movq %1, %%xmm0; movlps %%xmm0, (%0)"
                         :
                         : "r"(at + PAGE - 4), "r"(middle)
                         : "memory");
    }
    CHECK_EQ(*word_at(last), want[0], "a store across pages, tables %u: the first", tables);
    CHECK_EQ(*word_at(first), want[1], "a store across pages, tables %u: the second", tables);
    if (tables & 1) {
        invlpg(page_at(PAGES - 1));
        must_fault(page_at(PAGES - 1), ACCESS_FETCH, false, ERROR_P | ERROR_FETCH,
                   "NX by a store across pages");
    }
    if (tables & 2) {
        uint64_t changed = tables & 1 ? SCRATCH : REGION;
        invlpg(changed);
        CHECK_EQ(held(changed), value_of(7), "the page behind a store across pages");
    }
    *word_at(last) = old[0];
    *word_at(first) = old[1];
    *word_at(scratch) = 0;
    for (unsigned n = 0; n < 2; n++)
        *word_at(scratch + 8 * (100 + n)) = 0;
    flush();
    check_page(0, 0, "after a store across pages");
    check_page(PAGES - 1, PAGES - 1, "after a store across pages");
    page_free(data);
}

/* A whole table is emptied and filled again by string instructions. */
static void act_strings(void)
{
    static uint64_t kept[ENTRIES];
    uint64_t i = below(PAGES), at = below(2) ? ALIAS : table;
    uint64_t to = at, from = table, count = ENTRIES;

    memcpy(kept, (const void *)from, sizeof(kept));
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0ull) : "memory");
    CHECK_EQ(count, 0, "RCX after REP STOSQ");
    CHECK_EQ(to, at + PAGE, "RDI after REP STOSQ");
    flush();
    must_fault(page_at(i), ACCESS_READ, false, 0, "a page of a table that was emptied");
    must_fault(page_at(PAGES - 1 - i), ACCESS_WRITE, true, ERROR_W | ERROR_U, "the same");
    /* What was not present needs no invalidation; ALIAS, elsewhere, has stayed. */
    count = below(2) ? PAGE : ENTRIES;
    to = at;
    from = (uint64_t)kept;
    if (count == PAGE)
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    else
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    CHECK_EQ(to, at + PAGE, "RDI after REP MOVS");
    check_page(i, i, "a page of a table that was filled again");
    check_page(PAGES - 1 - i, PAGES - 1 - i, "the same");
}

/* Single steps over stores to a table: #DB comes after each, also after one of a repeated one. */
extern const char step_store[], step_store_end[], step_repeat[], step_repeat_at[];
__asm__(".section .text\n"
        "step_store: mov step_to(%rip), %rdi; mov step_value(%rip), %rax\n"
        "  pushfq; orl $0x100, (%rsp); popfq; mov %rax, (%rdi)\n"
        "step_store_end: ret\n"
        "step_repeat: mov step_to(%rip), %rdi; mov step_value(%rip), %rax; mov $2, %ecx\n"
        "  pushfq; orl $0x100, (%rsp); popfq\n"
        "step_repeat_at: rep stosq\n"
        "  ret\n"
        ".data\n .balign 8\n"
        ".globl step_to, step_value\n"
        "step_to: .quad 0\nstep_value: .quad 0\n .text\n");
extern uint64_t step_to, step_value;

static void act_single_step(void)
{
    uint64_t i = below(PAGES - 1), j = below(PAGES), dr6;
    uint64_t a = *entry_of(i), b = *entry_of(i + 1);
    bool repeat = below(2);

    step_to = any_alias(i);
    step_value = frame[j] | FULL_BITS;
    __asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0ull));
    try_run((void (*)(void))(repeat ? step_repeat : step_store));
    __asm__ volatile("mov %%dr6, %0" : "=r"(dr6));
    CHECK_EQ(caught.vector, VECTOR_DB, "a single step over a store to a table");
    CHECK_EQ(caught.rip, (uint64_t)(repeat ? step_repeat_at : step_store_end), "its RIP");
    CHECK_EQ(dr6 & DR6_BS, DR6_BS, "its DR6.BS");
    CHECK_EQ(*entry_of(i), step_value, "the entry that it wrote");
    CHECK_EQ(*entry_of(i + 1), b, "the entry behind");
    invlpg(page_at(i));
    check_page(i, j, "a page moved in a single step");
    *entry_of(i) = a;
    invlpg(page_at(i));
    check_page(i, i, "a page moved back");
}

/* User code writes to a page table that it is shown. try_access writes 8 zero bytes at + 8. */
static void act_user_store(void)
{
    uint64_t i = 1 + below(PAGES - 1);
    uint64_t old = *entry_of(i);

    must_pass(USER_ALIAS + 8 * (i - 1), ACCESS_WRITE, true, "user code writes an entry");
    invlpg(page_at(i));
    CHECK_EQ(*entry_of(i), 0, "the entry that user code wrote");
    must_fault(page_at(i), ACCESS_READ, true, ERROR_U, "a page whose entry user code cleared");
    *entry_of(i) = old;
    check_page(i, i, "the entry again");
    /* The same page without U: the store must fault, and change nothing. */
    must_fault(ALIAS + 8 * (i - 1), ACCESS_WRITE, true, ERROR_P | ERROR_W | ERROR_U,
               "user code writes to a table without U");
    CHECK_EQ(*entry_of(i) & ~(PTE_A | PTE_D), old & ~(PTE_A | PTE_D), "the entry after a fault");
    check_page(i, i, "the entry after a fault");
}

/* FXSAVE and XSAVE into the upper half of a table, whose lower half is in use. */
static void act_save_area(void)
{
    static uint8_t want[4096] __attribute__((aligned(64)));
    uint64_t i = below(100), to = STACK_ALIAS + 2048;
    bool xsave = has_xsave() && below(2);
    uint64_t from = (uint64_t)want;

    *word_at(scratch + 8 * i) = frame[i] | FULL_BITS;
    invlpg(SCRATCH + i * PAGE);
    CHECK_EQ(held(SCRATCH + i * PAGE), value_of(i), "a page of the scratch table");
    for (unsigned n = 0; n < 2; n++) {
        uint64_t at = n ? to : from;
        uint64_t count = 256, clear = at;
        __asm__ volatile("rep stosq" : "+D"(clear), "+c"(count) : "a"(0ull) : "memory");
        if (xsave)
            __asm__ volatile("xsave64 (%0)" : : "r"(at), "a"(7), "d"(0) : "memory");
        else
            __asm__ volatile("fxsave64 (%0)" : : "r"(at) : "memory");
    }
    for (unsigned n = 0; n < 2048; n += 8)
        CHECK_EQ(*word_at(to + n), *word_at(from + n), "%s to a page table, byte %u",
                 xsave ? "XSAVE" : "FXSAVE", (uint64_t)n);
    CHECK_EQ(held(SCRATCH + i * PAGE), value_of(i), "a page of the scratch table then");
    memset((void *)(scratch + 2048), 0, 2048);
    *word_at(scratch + 8 * i) = 0;
    invlpg(SCRATCH + i * PAGE);
}

static void undefined(void)
{
    __asm__ volatile("ud2");
}

/* Exceptions whose stack is the upper half of a page table that is in use: the page that the #PF is
 * for is one of that table's. */
static void act_delivery(void)
{
    uint64_t i = below(100), j = (i + 1) % 100;

    *word_at(scratch + 8 * i) = frame[i] | FULL_BITS;
    invlpg(SCRATCH + i * PAGE);
    idt_set(VECTOR_UD, true, IST_LIVE);
    idt_set(VECTOR_PF, true, IST_LIVE);
    for (unsigned n = 0; n < 3; n++) {
        try_run(undefined);
        CHECK_EQ(caught.vector, VECTOR_UD, "#UD on a stack in a page table");
        must_fault(SCRATCH + j * PAGE, ACCESS_WRITE, n & 1, ERROR_W | (n & 1 ? ERROR_U : 0),
                   "#PF on a stack in a page table");
        CHECK_EQ(held(SCRATCH + i * PAGE), value_of(i), "a page of the table with the stack");
    }
    idt_set(VECTOR_UD, true, 0);
    idt_set(VECTOR_PF, true, 0);
    memset((void *)(scratch + 2048), 0, 2048);
    *word_at(scratch + 8 * i) = 0;
    invlpg(SCRATCH + i * PAGE);
}

/* Code that leads its own page to another frame goes on there after INVLPG. */
extern const char own_page_code[], own_page_result[], own_page_end[];
__asm__(".section .text\n"
        "own_page_code: mov %rsi, (%rdi); invlpg (%rdx); mov $1, %eax\n"
        "own_page_result: ret\n"
        "own_page_end:\n");

static void act_own_code(void)
{
    uint64_t length = (uint64_t)(own_page_end - own_page_code);
    uint64_t i = below(PAGES), j = (i + 1 + below(PAGES - 1)) % PAGES;
    uint64_t at = page_at(i) + 512, result;
    uint64_t a = *entry_of(i), b = *entry_of(j);

    memcpy((void *)(frame[i] + 512), own_page_code, length);
    memcpy((void *)(frame[j] + 512), own_page_code, length);
    /* The operand of MOV $1, %EAX, before the RET */
    *(volatile uint32_t *)(frame[j] + 512 + (uint64_t)(own_page_result - own_page_code) - 4) = 2;
    invlpg(page_at(i)); /* serialises: code was written by another address (SDM 3A 11.6) */
    __asm__ volatile("call *%1"
                     : "=a"(result)
                     : "r"(at), "D"(any_alias(i)), "S"(b), "d"(page_at(i))
                     : "memory", "cc");
    CHECK_EQ(result, 2, "code that moved its own page");
    check_page(i, j, "code that moved its own page");
    *entry_of(i) = a;
    invlpg(page_at(i));
    __asm__ volatile("call *%1"
                     : "=a"(result)
                     : "r"(page_at(j) + 512), "D"(any_alias(j)), "S"(b), "d"(page_at(j))
                     : "memory", "cc");
    CHECK_EQ(result, 2, "code that leaves its own page where it is");
    *entry_of(j) = b;
    invlpg(page_at(j));
    make_frame(frame[i], value_of(i));
}

/* A page table that maps itself: a store through it changes the store's own page. */
static void act_own_data(void)
{
    uint64_t i = below(PAGES), j = below(PAGES);
    uint64_t at = SCRATCH + i * PAGE;
    unsigned form;

    do {
        form = (unsigned)below(store_forms());
    } while (!store_is_single(form));
    *word_at(scratch + 8 * i) = scratch | PTE_P | PTE_W;
    invlpg(at);
    CHECK_EQ(*word_at(at + 8 * i) & PTE_ADDRESS, scratch, "a table that maps itself");
    store_blind(form, at + 8 * i, frame[j] | FULL_BITS);
    invlpg(at);
    CHECK_EQ(held(at), value_of(j), "a page moved by a store to itself (%s)", store_name(form));
    *word_at(scratch + 8 * i) = 0;
    invlpg(at);
}

/* --- the acts: bits --------------------------------------------------------------------------- */

/* A and D of all levels, cleared, are set where an access goes and nowhere else. */
static void act_accessed_dirty(void)
{
    static const char *const names[] = {"read", "write", "fetch"};
    uint64_t i = below(PAGES), other = (i + 1 + below(PAGES - 1)) % PAGES;
    enum access access = (enum access)below(3);
    bool user = below(2);

    *entry_of(other) &= ~(PTE_A | PTE_D);
    for (unsigned level = LEVELS; level >= 1; level--) {
        uint64_t at = level == 1 ? any_alias(i) : (uint64_t)space_find(root, page_at(i), level);
        if (below(2))
            __asm__ volatile("lock andq %1, (%0)"
                             :
                             : "r"(at), "r"(~(PTE_A | PTE_D))
                             : "memory", "cc");
        else
            store_any(at, *word_at(at) & ~(PTE_A | PTE_D));
    }
    /* The aliases go through the same upper entries, which have A again. */
    for (unsigned level = LEVELS; level >= 2; level--)
        *space_find(root, page_at(i), level) &= ~(PTE_A | PTE_D);
    flush();
    for (unsigned level = LEVELS; level >= 1; level--)
        CHECK_EQ(*space_find(root, page_at(i), level) & (PTE_A | PTE_D), 0,
                 "A and D of level %u before the access", (uint64_t)level);
    must_pass(page_at(i), access, user, "an access with A and D clear");
    for (unsigned level = LEVELS; level >= 1; level--) {
        uint64_t want = PTE_A | (level == 1 && access == ACCESS_WRITE ? PTE_D : 0);
        CHECK_EQ(*space_find(root, page_at(i), level) & (PTE_A | PTE_D), want,
                 "A and D of level %u after a %s", (uint64_t)level, names[access]);
    }
    CHECK_EQ(*word_at(any_alias(i)) & (PTE_A | PTE_D), PTE_A | (access == ACCESS_WRITE ? PTE_D : 0),
             "A and D by an alias, after a %s", names[access]);
    CHECK_EQ(*entry_of(other) & (tables_speculation ? PTE_D : PTE_A | PTE_D), 0,
             "A and D of a page that was left alone");
    if (access != ACCESS_WRITE && below(2)) {
        must_pass(page_at(i), ACCESS_WRITE, user, "a write after a read");
        CHECK_EQ(*entry_of(i) & PTE_D, PTE_D, "D of a write after a read");
    }
}

/* A right taken away at any level by any store is gone after INVLPG, and back when it is given. */
static void act_rights(void)
{
    unsigned level = 1 + (unsigned)below(LEVELS);
    uint64_t i = below(PAGES);
    /* Level 4's entry also leads to the aliases: stores go by the one-to-one map. */
    uint64_t at = (uint64_t)space_find(root, page_at(i), level);
    uint64_t old;
    static const struct {
        uint64_t clear, set;
        enum access access;
        bool user;
        uint64_t error;
    } cases[] = {
        {PTE_W, 0, ACCESS_WRITE, false, ERROR_P | ERROR_W},
        {PTE_W, 0, ACCESS_WRITE, true, ERROR_P | ERROR_W | ERROR_U},
        {PTE_U, 0, ACCESS_READ, true, ERROR_P | ERROR_U},
        {PTE_U, 0, ACCESS_FETCH, true, ERROR_P | ERROR_U | ERROR_FETCH},
        {0, PTE_NX, ACCESS_FETCH, false, ERROR_P | ERROR_FETCH},
        {0, PTE_NX, ACCESS_FETCH, true, ERROR_P | ERROR_U | ERROR_FETCH},
        {PTE_P, 0, ACCESS_READ, false, 0},
        {PTE_P, 0, ACCESS_WRITE, true, ERROR_W | ERROR_U},
        {PTE_W | PTE_D, 0, ACCESS_WRITE, false, ERROR_P | ERROR_W},
        {0, 1ull << 51, ACCESS_READ, false, ERROR_P | ERROR_RSVD},
        {0, 1ull << 51, ACCESS_WRITE, true, ERROR_P | ERROR_W | ERROR_U | ERROR_RSVD},
    };
    unsigned c = (unsigned)below(sizeof(cases) / sizeof(cases[0]));

    if ((cases[c].error & ERROR_RSVD) && physical_bits > 51)
        return; /* no bit is reserved */
    must_pass(page_at(i), cases[c].access, cases[c].user, "before a right is taken away");
    old = *word_at(at);
    store_any(at, (old & ~cases[c].clear) | cases[c].set);
    invlpg(page_at(i));
    must_fault(page_at(i), cases[c].access, cases[c].user, cases[c].error,
               "a right taken away at one level");
    if (below(2))
        must_fault(page_at(i), cases[c].access, cases[c].user, cases[c].error, "the same again");
    store_any(at, old);
    invlpg(page_at(i));
    must_pass(page_at(i), cases[c].access, cases[c].user, "a right that is given back");
    check_page(i, i, "a right that is given back");
}

/* Entries that are not present may hold anything. */
static void act_garbage(void)
{
    unsigned level = 1 + (unsigned)below(3);
    uint64_t i = below(PAGES);
    volatile uint64_t *entry = space_find(root, page_at(i), level);
    uint64_t old = *entry;

    store_any((uint64_t)entry, random_next(&random) & ~PTE_P);
    invlpg(page_at(i));
    must_fault(page_at(i), ACCESS_READ, false, 0, "an entry that is not present, with garbage");
    must_fault(page_at(i), ACCESS_FETCH, true, ERROR_U | ERROR_FETCH, "the same");
    store_any((uint64_t)entry, old);
    check_page(i, i, "the entry again, from not present"); /* which needs no invalidation */
    /* And one that leads where there is no RAM. */
    *entry_of(i) = NO_RAM | FULL_BITS;
    invlpg(page_at(i));
    CHECK_EQ(held(page_at(i)), ~0ull, "a page without RAM");
    *word_at(page_at(i)) = 5;
    CHECK_EQ(held(page_at(i)), ~0ull, "a page without RAM, after a write");
    *entry_of(i) = frame[i] | FULL_BITS;
    invlpg(page_at(i));
    check_page(i, i, "a page with RAM again");
}

/* CR0.WP: a page that is read-only may be written by the supervisor without it, which sets D. */
static void act_write_protect(void)
{
    uint64_t i = below(PAGES);
    unsigned level = below(3) == 0 ? 2 : 1;
    volatile uint64_t *entry = space_find(root, page_at(i), level);

    *entry_of(i) &= ~(PTE_A | PTE_D);
    *entry &= ~PTE_W;
    invlpg(page_at(i));
    check_page(i, i, "a page made read-only");
    must_fault(page_at(i), ACCESS_WRITE, false, ERROR_P | ERROR_W, "WP set");
    CHECK_EQ(*entry_of(i) & PTE_D, 0, "D after a write that faulted");
    write_cr0(read_cr0() & ~CR0_WP);
    must_fault(page_at(i), ACCESS_WRITE, true, ERROR_P | ERROR_W | ERROR_U, "WP clear, by user");
    for (uint64_t n = 0; n < 3; n++) {
        *word_at(page_at(i) + 8) = value_of(n);
        CHECK_EQ(*word_at(frame[i] + 8), value_of(n), "a read-only page written without WP");
        CHECK_EQ(*entry_of(i) & PTE_D, PTE_D, "D of it");
    }
    must_fault(page_at(i), ACCESS_WRITE, true, ERROR_P | ERROR_W | ERROR_U, "by user, after that");
    write_cr0(read_cr0() | CR0_WP);
    must_fault(page_at(i), ACCESS_WRITE, false, ERROR_P | ERROR_W, "WP set again");
    must_fault(page_at(i), ACCESS_WRITE, true, ERROR_P | ERROR_W | ERROR_U, "the same, by user");
    *entry |= PTE_W;
    invlpg(page_at(i));
    must_pass(page_at(i), ACCESS_WRITE, true, "a page made writable");
}

/* --- the acts: large pages and roots ---------------------------------------------------------- */

/* 2 MiB as a large page, as a table, and as a large page again. */
static void act_large(void)
{
    static uint64_t run, run_table;
    uint64_t i = below(ENTRIES), j = below(ENTRIES);
    volatile uint64_t *entry = space_entry(root, LARGE, 2);

    if (!run) {
        run = run_alloc(PAGE_2M, PAGE_2M);
        run_table = page_alloc();
        for (uint64_t n = 0; n < ENTRIES; n++) {
            make_frame(run + n * PAGE, value_of(n));
            *word_at(run_table + 8 * n) = (run + n * PAGE) | FULL_BITS;
        }
    }
    store_any((uint64_t)entry, run | FULL_BITS | PTE_PS);
    CHECK_EQ(held(LARGE + i * PAGE), value_of(i), "a page of a large page");
    CHECK_EQ(*entry & (PTE_A | PTE_D), PTE_A, "A and D of a large page after a read");
    *word_at(LARGE + j * PAGE + 8) = value_of(j);
    CHECK_EQ(*entry & (PTE_A | PTE_D), PTE_A | PTE_D, "A and D of a large page after a write");
    store_any((uint64_t)entry, run_table | FULL_BITS);
    invlpg(LARGE + i * PAGE);
    invlpg(LARGE + j * PAGE);
    uint64_t kept = *word_at(run_table + 8 * i);
    store_any(run_table + 8 * i, frame[j] | FULL_BITS);
    CHECK_EQ(held(LARGE + i * PAGE), value_of(j), "a page of the table that took its place");
    store_any(run_table + 8 * i, kept);
    invlpg(LARGE + i * PAGE);
    CHECK_EQ(held(LARGE + i * PAGE), value_of(i), "the same page again");
    *entry = run | PTE_P | PTE_PS; /* read-only, and not for user code */
    invlpg(LARGE + i * PAGE);
    must_fault(LARGE + i * PAGE, ACCESS_WRITE, false, ERROR_P | ERROR_W, "a large read-only page");
    CHECK_EQ(held(LARGE + i * PAGE), value_of(i), "a page of the large page, after the table");
    *entry = 0;
    invlpg(LARGE + i * PAGE);
    invlpg(LARGE + j * PAGE);
    must_fault(LARGE + j * PAGE, ACCESS_READ, true, ERROR_U, "a large page taken away");
    /* 1 GiB: guest-physical 0 once more, in place of a directory. */
    if (!has_1g_pages())
        return;
    entry = space_entry(root, GIANT, 3);
    store_any((uint64_t)entry, PTE_P | PTE_W | PTE_PS);
    CHECK_EQ(held(GIANT + frame[i]), value_of(i), "a page of a 1-GiB page");
    *entry = *space_find(root, REGION, 3);
    invlpg(GIANT + frame[i]);
    invlpg(GIANT + i * PAGE);
    CHECK_EQ(held(GIANT + i * PAGE), value_of(i), "a page of the directory that took its place");
    *entry = 0;
    flush();
}

/* Many roots, in turn; some of them are freed, used as data, and made anew. */
static uint64_t many[ROOTS], many_frame[ROOTS], many_value[ROOTS];

static void drop_root(uint64_t n)
{
    uint64_t pages[4];

    page_free(many_frame[n]);
    *space_entry(many[n], USER_CODE, 4) = 0; /* user code's, which is not its own */
    *space_entry(many[n], REGION, 4) = 0;    /* nor is the region */
    space_free(many[n]);
    /* What was the root, its tables and its page is data now. */
    for (unsigned i = 0; i < 4; i++) {
        pages[i] = page_alloc();
        for (unsigned k = 0; k < ENTRIES; k += 7)
            *word_at(pages[i] + 8 * k) = value_of(k + i);
    }
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < ENTRIES; k += 7)
            CHECK_EQ(*word_at(pages[i] + 8 * k), value_of(k + i), "a former table as data");
        page_free(pages[i]);
    }
}

static void make_root(uint64_t n)
{
    many_value[n] = random_next(&random);
    many_frame[n] = new_frame(many_value[n]);
    many[n] = space_new();
    *space_entry(many[n], USER_CODE, 4) = *space_entry(root, USER_CODE, 4);
    *space_entry(many[n], REGION, 4) = *space_entry(root, REGION, 4);
    space_map(many[n], MANY, many_frame[n], PTE_W | PTE_U);
}

static void act_roots(void)
{
    for (unsigned n = 0; n < 8; n++) {
        uint64_t k = below(ROOTS);
        if (many[k])
            drop_root(k);
        make_root(k);
    }
    for (uint64_t n = 0, k = below(ROOTS); n < ROOTS; n++, k = (k + 1) % ROOTS) {
        if (!many[k])
            make_root(k);
        write_cr3(many[k]);
        CHECK_EQ(held(MANY), many_value[k], "the page of root %u", k);
        check_page(k, k, "the region, by another root");
    }
    flush();
}

/* PCIDs and loads that keep what is cached, with changes in between. */
static void act_pcid(void)
{
    uint64_t a = below(ROOTS), b = (a + 1 + below(ROOTS - 1)) % ROOTS;
    uint64_t pcid_a = 1 + below(3), pcid_b = 4 + below(3);

    if (!has_pcid() || !many[a] || !many[b])
        return;
    write_cr4(read_cr4() | CR4_PCIDE);
    write_cr3(many[a] | pcid_a);
    CHECK_EQ(held(MANY), many_value[a], "the first root with a PCID");
    write_cr3(many[b] | pcid_b);
    CHECK_EQ(held(MANY), many_value[b], "the second root with a PCID");
    for (unsigned n = 0; n < 10; n++) {
        write_cr3(many[a] | pcid_a | CR3_KEEP);
        CHECK_EQ(read_cr3(), many[a] | pcid_a, "CR3 with a PCID");
        CHECK_EQ(held(MANY), many_value[a], "the first root, what is cached kept");
        write_cr3(many[b] | pcid_b | CR3_KEEP);
        CHECK_EQ(held(MANY), many_value[b], "the second root, what is cached kept");
    }
    /* The first root's page is moved while the second runs: INVLPG is due there, or a load without
     * the bit. */
    store_any((uint64_t)space_find(many[a], MANY, 1), frame[5] | FULL_BITS);
    bool keep = below(2);
    write_cr3(many[a] | pcid_a | (keep ? CR3_KEEP : 0));
    if (keep)
        invlpg(MANY);
    CHECK_EQ(held(MANY), value_of(5), "a page moved while another root ran");
    store_any((uint64_t)space_find(many[a], MANY, 1), many_frame[a] | FULL_BITS);
    invlpg(MANY);
    CHECK_EQ(held(MANY), many_value[a], "the page moved back");
    write_cr3(root);
    write_cr4(read_cr4() & ~CR4_PCIDE);
    quiet(20);
}

/* Global pages, and toggling CR4.PGE as the way to forget them. */
static void act_global(void)
{
    uint64_t i = below(PAGES), j = below(PAGES);
    uint64_t old = *entry_of(i);

    write_cr4(read_cr4() | CR4_PGE);
    store_any(any_alias(i), frame[j] | FULL_BITS | PTE_G);
    invlpg(page_at(i));
    check_page(i, j, "a global page");
    store_any(any_alias(i), frame[i] | FULL_BITS | PTE_G);
    write_cr4(read_cr4() & ~CR4_PGE);
    write_cr4(read_cr4() | CR4_PGE);
    check_page(i, i, "a global page, after CR4.PGE was toggled");
    store_any(any_alias(i), old);
    invlpg(page_at(i));
    check_page(i, i, "a page that is global no more");
    if (below(2))
        write_cr4(read_cr4() & ~CR4_PGE);
}

/* --- the group -------------------------------------------------------------------------------- */

static void set_up(void)
{
    first_root = read_cr3();
    random = tables_seed;
    physical_bits = cpuid(0x80000008, 0).eax & 0xff;
    stores_init();
    root = space_new();
    *space_entry(root, USER_CODE, 4) = *space_entry(first_root, USER_CODE, 4);
    *space_entry(root, RECURSIVE_SLOT << 39, 4) = root | PTE_P | PTE_W;
    for (uint64_t i = 0; i < PAGES; i++) {
        frame[i] = new_frame(value_of(i));
        space_map(root, page_at(i), frame[i], PTE_W | PTE_U);
    }
    table = (uint64_t)space_find(root, REGION, 1);
    scratch = (uint64_t)space_entry(root, SCRATCH, 1);
    *space_entry(root, REGION_AGAIN, 2) = table | FULL_BITS;
    space_map(root, ALIAS, table, PTE_W);
    space_map(root, USER_ALIAS, table, PTE_W | PTE_U);
    space_map(root, STACK_ALIAS, scratch, PTE_W);
    tss_set_stack(IST_LIVE, STACK_ALIAS + PAGE);
    write_cr3(root);
}

uint64_t check_tables(void)
{
    static void (*const acts[])(void) = {
        act_stores,         act_stores,
        act_recursive,      act_two_levels,
        act_two_links,      act_reuse,
        act_strings,        act_single_step,
        act_straddle_pages, act_straddle_entries,
        act_user_store,     act_save_area,
        act_delivery,       act_own_code,
        act_own_data,       act_accessed_dirty,
        act_rights,         act_rights,
        act_garbage,        act_write_protect,
        act_large,          act_roots,
        act_pcid,           act_global,
    };
    uint64_t count = sizeof(acts) / sizeof(acts[0]);

    set_up();
    /* Each form once by each alias, before chance takes over. */
    for (unsigned form = 0; form < store_forms(); form++) {
        for (unsigned alias = 0; alias < 3; alias++) {
            uint64_t i = (form * 3 + alias) % PAGES, j = PAGES - 1 - i;
            uint64_t at = alias == 0   ? ALIAS + 8 * i
                          : alias == 1 ? recursive(page_at(i), 1)
                                       : (uint64_t)entry_of(i);
            uint64_t old = *entry_of(i);
            store_by(form, at, frame[j] | FULL_BITS);
            invlpg(page_at(i));
            check_page(i, j, store_name(form));
            store_by(form, at, old);
            invlpg(page_at(i));
            check_page(i, i, store_name(form));
            pause_between();
        }
    }
    for (uint64_t n = 0; n < count * tables_rounds; n++) {
        acts[below(count)]();
        pause_between();
    }
    write_cr3(first_root);
    return count * tables_rounds + 3 * store_forms();
}
