/* SPDX-License-Identifier: BSD-2-Clause */
/* What must be invalidated by what (SDM 3A 4.10.4): INVLPG, MOV to CR3, CR4.PGE, PCIDs and INVPCID.
 */
#include "guest-tests/checks/checks.h"

#define ROUNDS 64u

enum { INVPCID_ADDRESS = 0, INVPCID_CONTEXT = 1, INVPCID_ALL = 2, INVPCID_ALL_NON_GLOBAL = 3 };

static uint64_t frame[2];

static void make_frames(void)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!frame[i])
            frame[i] = page_alloc();
        *word_at(frame[i]) = value_of(i);
    }
}

static volatile uint64_t *test_entry(void)
{
    return space_entry(read_cr3() & PTE_ADDRESS, TEST_BASE, 1);
}

/* Point the page at frame `i` and see what it holds before any invalidation: the old or the new
 * value. */
static void change_to(unsigned i, uint64_t bits)
{
    *test_entry() = frame[i] | PTE_P | bits;
    uint64_t found = *word_at(TEST_BASE);
    if (found != value_of(0) && found != value_of(1))
        fail("a changed page holds 0x%x, neither the old nor the new value\n", found);
}

static void must_hold(unsigned i, const char *after)
{
    CHECK_EQ(*word_at(TEST_BASE), value_of(i), "page after %s", after);
}

static void toggle_global_pages(void)
{
    write_cr4(read_cr4() & ~CR4_PGE);
    write_cr4(read_cr4() | CR4_PGE);
}

/* From not present to present nothing needs to be invalidated; the other way round INVLPG is due.
 */
static void check_presence(void)
{
    *test_entry() = 0;
    invlpg(TEST_BASE);
    if (try_access(TEST_BASE, ACCESS_READ, false, false) || caught.vector != VECTOR_PF)
        fail("a page that is not present was read\n");
    *test_entry() = frame[0] | PTE_P;
    must_hold(0, "not present to present");
}

/* One that is made read-only must not be written after INVLPG; one made writable may be at once. */
static void check_rights(void)
{
    *test_entry() = frame[0] | PTE_P | PTE_W;
    invlpg(TEST_BASE);
    *word_at(TEST_BASE + 16) = 1;
    *test_entry() &= ~PTE_W;
    invlpg(TEST_BASE);
    if (try_access(TEST_BASE, ACCESS_WRITE, false, false) || caught.error_code != 3)
        fail("a page made read-only was written after INVLPG\n");
    *test_entry() |= PTE_W;
    if (!try_access(TEST_BASE, ACCESS_WRITE, false, false) && caught.error_code != 3)
        fail("a page made writable gave error code 0x%x\n", caught.error_code);
    invlpg(TEST_BASE);
    if (!try_access(TEST_BASE, ACCESS_WRITE, false, false))
        fail("a page made writable cannot be written after INVLPG\n");
}

/* A changed upper-level entry: INVLPG drops what is cached of it for the address (SDM 3A 4.10.4.1).
 */
static void check_upper_level(void)
{
    uint64_t root = read_cr3() & PTE_ADDRESS;
    volatile uint64_t *directory = space_entry(root, TEST_BASE, 2);
    uint64_t old = *directory;
    uint64_t other = page_alloc();

    ((uint64_t *)other)[0] = frame[1] | PTE_P;
    *test_entry() = frame[0] | PTE_P;
    invlpg(TEST_BASE);
    must_hold(0, "INVLPG");
    *directory = other | PTE_P | PTE_W | PTE_U;
    invlpg(TEST_BASE);
    must_hold(1, "INVLPG with another page table");
    *directory = old;
    invlpg(TEST_BASE);
    must_hold(0, "INVLPG with the old page table again");
    page_free(other);
}

uint64_t check_invlpg(void)
{
    make_frames();
    write_cr4(read_cr4() | CR4_PGE);
    for (unsigned n = 0; n < ROUNDS; n++) {
        unsigned to = n & 1;
        change_to(to, 0);
        invlpg(TEST_BASE);
        must_hold(to, "INVLPG");
        change_to(1 - to, 0);
        write_cr3(read_cr3());
        must_hold(1 - to, "MOV to CR3");
        change_to(to, PTE_G);
        invlpg(TEST_BASE);
        must_hold(to, "INVLPG, global page");
        change_to(1 - to, PTE_G);
        toggle_global_pages();
        must_hold(1 - to, "CR4.PGE, global page");
        check_presence();
        check_rights();
    }
    check_upper_level();
    *test_entry() = 0;
    invlpg(TEST_BASE);
    return ROUNDS * 6 + 3;
}

static void invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
    struct {
        uint64_t pcid, address;
    } descriptor = {pcid, address};

    __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}

#define CR3_KEEP (1ull << 63)

/* Two address spaces with PCIDs of their own: each sees its own page, whatever was kept of the
 * other's. */
uint64_t check_pcid(void)
{
    if (!has_pcid())
        return 0;
    make_frames();
    uint64_t first = read_cr3();
    uint64_t root[2] = {space_new(), space_new()};
    for (unsigned i = 0; i < 2; i++)
        space_map(root[i], TEST_BASE, frame[i], 0);
    write_cr4(read_cr4() | CR4_PCIDE);
    for (unsigned n = 0; n < ROUNDS; n++) {
        unsigned i = n & 1;
        uint64_t pcid = 1 + i;
        write_cr3(root[i] | pcid | (n > 3 ? CR3_KEEP : 0));
        must_hold(i, "a switch with PCIDs");
        CHECK_EQ(read_cr3(), root[i] | pcid, "CR3 read back");
        if (!has_invpcid())
            continue;
        *test_entry() = frame[1 - i] | PTE_P;
        invpcid(n & 2 ? INVPCID_CONTEXT : INVPCID_ADDRESS, pcid, n & 2 ? 0 : TEST_BASE);
        must_hold(1 - i, "INVPCID");
        *test_entry() = frame[i] | PTE_P;
        invpcid(n & 2 ? INVPCID_ALL : INVPCID_ALL_NON_GLOBAL, 0, 0);
        must_hold(i, "INVPCID of all");
    }
    write_cr3(first);
    write_cr4(read_cr4() & ~CR4_PCIDE);
    space_free(root[0]);
    space_free(root[1]);
    return ROUNDS * (has_invpcid() ? 4 : 2);
}
