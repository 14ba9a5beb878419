/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Paging: permissions, error codes, reserved bits, A and D bits, canonical addresses. The
 * expectation is the hypervisor's own walk in software (hv/paging/walk.c), so that the processor
 * also checks that.
 */
#include "guest-tests/checks/checks.h"
#include "hv/paging/walk.h"

#define LEVELS       4u
#define COMBINATIONS 16u /* of P, W, U, NX in one entry */
#define CODE_RET     0xc3u

/* The entry of each level for the page under test; [0] is unused. */
static uint64_t *entry[LEVELS + 1];
static uint64_t permissive[LEVELS + 1]; /* what it holds with all rights */
static unsigned leaf_level;

/* What exits to ask for: asked once. */
static uint64_t efer;
static unsigned physical_bits;
static bool with_1g_pages;

/* --- the expectation -------------------------------------------------------------------------- */

static uint64_t read_memory(void *context, gpa_t at, unsigned bytes)
{
    (void)context;
    (void)bytes;
    return *word_at(at.v);
}

static bool swap_memory(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set)
{
    (void)context;
    (void)at;
    (void)bytes;
    (void)old;
    (void)set;
    return true;
}

static const struct walk_memory memory = {.read = read_memory, .compare_and_swap = swap_memory};

static struct walk_result expected(uint64_t at, enum access access, bool user, bool ac)
{
    struct walk_registers registers = {
        .cr0 = read_cr0(),
        .cr3 = read_cr3(),
        .cr4 = read_cr4(),
        .efer = efer,
        .rflags = ac ? RFLAGS_AC : 0,
        .physical_bits = physical_bits,
        .has_1g_pages = with_1g_pages,
    };
    unsigned flags = (access == ACCESS_WRITE   ? WALK_WRITE
                      : access == ACCESS_FETCH ? WALK_FETCH
                                               : 0u) |
                     (user ? WALK_USER : 0u);

    return walk(&memory, &registers, gva(at), flags);
}

/* --- one case --------------------------------------------------------------------------------- */

struct control {
    bool wp, smep, smap, ac, nxe;
};

static void complain(const struct control *c, enum access access, bool user, const char *what)
{
    print("entries");
    for (unsigned l = LEVELS; l >= leaf_level; l--)
        print(" %x", *entry[l]);
    print(", %s by %s, wp %u smep %u smap %u ac %u nxe %u: ",
          access == ACCESS_READ    ? "read"
          : access == ACCESS_WRITE ? "write"
                                   : "fetch",
          user ? "user" : "supervisor", (uint64_t)c->wp, (uint64_t)c->smep, (uint64_t)c->smap,
          (uint64_t)c->ac, (uint64_t)c->nxe);
    fail("%s; exception %u, error code 0x%x, cr2 0x%x\n", what, caught.vector, caught.error_code,
         caught.cr2);
}

static void one_access(const struct control *c, enum access access, bool user)
{
    uint64_t at = TEST_BASE;
    uint64_t touched = access == ACCESS_FETCH ? at : at + 8;

    for (unsigned l = LEVELS; l >= leaf_level; l--)
        *entry[l] &= ~(PTE_A | (l == leaf_level ? PTE_D : 0));
    invlpg(at);
    struct walk_result want = expected(at, access, user, c->ac);
    bool passed = try_access(at, access, user, c->ac);

    if (want.status == WALK_OK) {
        if (!passed)
            complain(c, access, user, "must pass");
        for (unsigned l = LEVELS; l >= leaf_level; l--) {
            if (!(*entry[l] & PTE_A))
                complain(c, access, user, "A must be set");
        }
        if (((*entry[leaf_level] & PTE_D) != 0) != (access == ACCESS_WRITE))
            complain(c, access, user, "D must be set by writes and only by them");
        return;
    }
    if (passed || caught.vector != VECTOR_PF)
        complain(c, access, user, "must give #PF");
    if (caught.error_code != want.error_code) {
        print("(error code 0x%x is due) ", (uint64_t)want.error_code);
        complain(c, access, user, "wrong error code");
    }
    if (caught.cr2 != touched)
        complain(c, access, user, "wrong CR2");
    if (*entry[leaf_level] & PTE_D)
        complain(c, access, user, "D was set by an access that faulted");
}

static uint64_t all_accesses(const struct control *c)
{
    for (enum access access = ACCESS_READ; access <= ACCESS_FETCH; access++) {
        one_access(c, access, false);
        one_access(c, access, true);
    }
    return 6;
}

/* --- set-up ----------------------------------------------------------------------------------- */

static void restore(void)
{
    for (unsigned l = LEVELS; l >= leaf_level; l--)
        *entry[l] = permissive[l];
    invlpg(TEST_BASE);
}

/* A page of `level` at TEST_BASE, whose frame begins with a RET. */
static void map_test_page(unsigned level)
{
    uint64_t root = read_cr3();
    uint64_t frame = level == 1 ? page_alloc() : level == 2 ? run_alloc(PAGE_2M, PAGE_2M) : 0;

    /* A 1-GiB page can only be the first one: its byte 0 is RAM that nobody uses. */
    *(volatile uint8_t *)frame = CODE_RET;
    *space_entry(root, TEST_BASE, level) = frame | PTE_P | PTE_W | PTE_U | (level > 1 ? PTE_PS : 0);
    leaf_level = level;
    efer = rdmsr(MSR_EFER);
    physical_bits = cpuid(0x80000008, 0).eax & 0xff;
    with_1g_pages = has_1g_pages();
    for (unsigned l = LEVELS; l >= level; l--) {
        entry[l] = space_entry(root, TEST_BASE, l);
        permissive[l] = *entry[l];
    }
    invlpg(TEST_BASE);
}

static void unmap_test_page(void)
{
    restore();
    *entry[LEVELS] = 0;
    write_cr3(read_cr3());
}

static uint64_t bits_of(unsigned combination)
{
    static const uint64_t missing[] = {PTE_P, PTE_W, PTE_U};
    uint64_t bits = combination & 8 ? PTE_NX : 0;

    for (unsigned i = 0; i < 3; i++)
        bits |= combination >> i & 1 ? 0 : missing[i];
    return bits;
}

static void set_level(unsigned level, unsigned combination)
{
    *entry[level] = (permissive[level] & ~(PTE_P | PTE_W | PTE_U)) | bits_of(combination);
}

static void apply(const struct control *c)
{
    uint64_t cr4 = read_cr4() & ~(CR4_SMEP | CR4_SMAP);

    write_cr0((read_cr0() & ~CR0_WP) | (c->wp ? CR0_WP : 0));
    write_cr4(cr4 | (c->smep ? CR4_SMEP : 0) | (c->smap ? CR4_SMAP : 0));
    efer = (rdmsr(MSR_EFER) & ~EFER_NXE) | (c->nxe ? EFER_NXE : 0);
    wrmsr(MSR_EFER, efer);
}

static const struct control standard = {.wp = true, .nxe = true};

/* Call `body` under every setting of WP, SMEP, SMAP with AC, NXE that the processor has. */
static uint64_t each_control(uint64_t (*body)(const struct control *))
{
    uint64_t cases = 0;

    for (unsigned n = 0; n < 32; n++) {
        struct control c = {n & 1, n & 2, n & 4, n & 8, n & 16};
        if ((c.smep && !has_smep()) || (c.smap && !has_smap()) || (c.ac && !c.smap))
            continue;
        apply(&c);
        cases += body(&c);
    }
    apply(&standard);
    return cases;
}

/* --- the groups ------------------------------------------------------------------------------- */

/* One level takes all combinations, the others grant everything. */
static uint64_t single_levels(const struct control *c)
{
    uint64_t cases = 0;

    for (unsigned l = leaf_level; l <= LEVELS; l++) {
        for (unsigned n = 0; n < COMBINATIONS; n++) {
            set_level(l, n);
            cases += all_accesses(c);
        }
        restore();
    }
    return cases;
}

uint64_t check_permissions(void)
{
    map_test_page(1);
    uint64_t cases = each_control(single_levels);
    unmap_test_page();
    return cases;
}

/* Of combinations of levels only every so-manieth: each store to a table takes its time where it
 * traps. */
unsigned permissions_every = 1;

static uint64_t pairs_of_levels(const struct control *c)
{
    uint64_t cases = 0;

    for (unsigned a = leaf_level; a < LEVELS; a++) {
        for (unsigned b = a + 1; b <= LEVELS; b++) {
            for (unsigned n = 0; n < COMBINATIONS * COMBINATIONS; n += permissions_every) {
                set_level(a, n % COMBINATIONS);
                set_level(b, n / COMBINATIONS);
                cases += all_accesses(c);
            }
            restore();
        }
    }
    return cases;
}

/* Two levels together, where one takes away what the other grants, under every control setting. */
uint64_t check_permissions_pairs(void)
{
    map_test_page(1);
    uint64_t cases = each_control(pairs_of_levels);
    unmap_test_page();
    return cases;
}

/* All four levels together. */
uint64_t check_permissions_all(void)
{
    uint64_t cases = 0;

    map_test_page(1);
    for (unsigned n = 0; n < COMBINATIONS * COMBINATIONS * COMBINATIONS * COMBINATIONS;
         n += permissions_every) {
        for (unsigned l = 1; l <= LEVELS; l++)
            set_level(l, n >> 4 * (l - 1) & 15);
        cases += all_accesses(&standard);
    }
    unmap_test_page();
    return cases;
}

uint64_t check_large_pages(void)
{
    uint64_t cases = 0;

    for (unsigned level = 2; level <= 3; level++) {
        if (level == 3 && !has_1g_pages())
            continue;
        map_test_page(level);
        cases += each_control(single_levels);
        unmap_test_page();
    }
    return cases;
}

/* Every bit that must be 0, alone, in every level of every kind of page; the walk knows which they
 * are. */
uint64_t check_reserved_bits(void)
{
    uint64_t cases = 0;

    for (unsigned level = 1; level <= 3; level++) {
        if (level == 3 && !has_1g_pages())
            continue;
        map_test_page(level);
        for (unsigned l = level; l <= LEVELS; l++) {
            for (unsigned bit = 7; bit < 52; bit++) {
                uint64_t trial = permissive[l] | 1ull << bit;
                bool leads_away = bit >= 12 && bit < physical_bits;
                bool reserved_below =
                    l == level && level > 1 && bit > 12 && bit < 12 + 9 * (level - 1);
                if (trial == permissive[l] || (leads_away && !reserved_below))
                    continue;
                if (bit == 7 && l != LEVELS)
                    continue; /* would make another kind of page of it */
                *entry[l] = trial;
                cases += all_accesses(&standard);
                restore();
            }
        }
        unmap_test_page();
    }
    return cases;
}

/* A bit that was cleared comes back with the next access after an invalidation, at each page size.
 */
uint64_t check_accessed_dirty(void)
{
    uint64_t cases = 0;

    for (unsigned level = 1; level <= 3; level++) {
        if (level == 3 && !has_1g_pages())
            continue;
        map_test_page(level);
        for (unsigned n = 0; n < 8; n++) {
            enum access access = n & 1 ? ACCESS_WRITE : ACCESS_READ;
            one_access(&standard, access, n & 2);
            uint64_t after = *entry[level];
            try_access(TEST_BASE, access, n & 2, false);
            CHECK_EQ(*entry[level], after, "a second access of the same kind");
            try_access(TEST_BASE, ACCESS_WRITE, false, false);
            CHECK_EQ(*entry[level] & PTE_D, PTE_D, "D after a write that followed a read");
            cases += 3;
        }
        unmap_test_page();
    }
    return cases;
}

static void load_noncanonical(void)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(0x0000800000000000ull) : "rax", "memory");
}

static void store_noncanonical(void)
{
    __asm__ volatile("mov %%rax, (%0)" : : "r"(0xffff7ffffffffff8ull) : "memory");
}

/* By RBP, and so through SS. */
static void stack_noncanonical(void)
{
    __asm__ volatile("push %%rbp; mov %0, %%rbp; mov (%%rbp), %%rax; pop %%rbp"
                     :
                     : "r"(0x0000900000000000ull)
                     : "rax", "memory");
}

static void jump_noncanonical(void)
{
    __asm__ volatile("jmp *%0" : : "r"(0x0000800000000000ull));
}

static void straddle_noncanonical(void)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(0x00007ffffffffffcull) : "rax", "memory");
}

uint64_t check_canonical(void)
{
    static const struct {
        void (*code)(void);
        uint64_t vector;
    } cases[] = {
        {load_noncanonical, VECTOR_GP},     {store_noncanonical, VECTOR_GP},
        {stack_noncanonical, VECTOR_SS},    {jump_noncanonical, VECTOR_GP},
        {straddle_noncanonical, VECTOR_GP},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        try_run(cases[i].code);
        CHECK_EQ(caught.vector, cases[i].vector, "non-canonical case %u", (uint64_t)i);
        CHECK_EQ(caught.error_code, 0, "error code of non-canonical case %u", (uint64_t)i);
    }
    return sizeof(cases) / sizeof(cases[0]);
}
