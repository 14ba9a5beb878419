/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page walk in software: every paging mode, the references of both dimensions, reserved bits,
 * protection keys, and marks under a racing change. The guest `checks` compares the same file with
 * a processor in 4-level mode.
 */
#include "hv/paging/walk.h"

#include <string.h>

#include "tests/host/test.h"

#define MEMORY KIB(64)

#define P  (1ull << 0)
#define W  (1ull << 1)
#define U  (1ull << 2)
#define A  (1ull << 5)
#define D  (1ull << 6)
#define PS (1ull << 7)
#define NX (1ull << 63)

static uint8_t memory[MEMORY];
static unsigned nested; /* references of the second dimension for each access */
static int steal_after; /* make the nth compare-and-swap fail, by a change of another processor */

static uint64_t read_memory(void *context, gpa_t at, unsigned bytes)
{
    uint64_t value = 0;

    (void)context;
    if (at.v + bytes > MEMORY)
        return bytes == 4 ? UINT32_MAX : UINT64_MAX;
    memcpy(&value, memory + at.v, bytes);
    return value;
}

static bool swap_memory(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set)
{
    (void)context;
    if (steal_after-- == 0) {
        memory[at.v] |= D; /* somebody else was faster */
        return false;
    }
    if (read_memory(NULL, at, bytes) != old)
        return false;
    memcpy(memory + at.v, &set, bytes);
    return true;
}

static unsigned nested_references(void *context, gpa_t at)
{
    (void)context;
    (void)at;
    return nested;
}

static struct walk_memory access_memory = {NULL, read_memory, swap_memory, nested_references};
static struct walk_registers registers;

static void put(uint64_t at, uint64_t value, unsigned bytes)
{
    memcpy(memory + at, &value, bytes);
}

static struct walk_result go(uint64_t at, unsigned access)
{
    return walk(&access_memory, &registers, gva(at), access);
}

#define CR0_PG_WP (1ull << 31 | 1ull << 16)
#define CR4_PSE   (1ull << 4)
#define CR4_PAE   (1ull << 5)
#define CR4_LA57  (1ull << 12)
#define CR4_PKE   (1ull << 22)
#define EFER_LONG (1ull << 10 | 1ull << 11)

/* Tables at 0x1000, 0x2000, ... for 4 or 5 levels; the page at 0x9000 is at virtual address 0. */
static void build_long(unsigned levels)
{
    memset(memory, 0, sizeof(memory));
    for (unsigned i = 1; i < levels; i++)
        put(i * PAGE_SIZE, (i + 1) * PAGE_SIZE | P | W | U, 8);
    put(levels * PAGE_SIZE, 0x9000 | P | W | U, 8);
    registers = (struct walk_registers){.cr0 = CR0_PG_WP,
                                        .cr3 = PAGE_SIZE,
                                        .cr4 = CR4_PAE | (levels == 5 ? CR4_LA57 : 0),
                                        .efer = EFER_LONG,
                                        .physical_bits = 40,
                                        .has_1g_pages = true};
    nested = 0;
    steal_after = -1;
}

static void references_follow_the_formula(void)
{
    for (unsigned levels = 4; levels <= 5; levels++) {
        for (nested = 0; nested <= 5; nested++) {
            unsigned h = nested;
            build_long(levels);
            nested = h;
            struct walk_result r = go(0x123, WALK_READ);
            CHECK(r.status == WALK_OK && r.gpa.v == 0x9123, "translation");
            CHECK(r.references == levels * (h + 1) + h, "g %u, h %u: %u", levels, h, r.references);
        }
    }
    build_long(4);
    nested = 4;
    put(0x2000, PS | P, 8);
    CHECK(go(0x12345678, WALK_READ).references == 2 * 5 + 4, "1-GiB page");
    registers.cr0 = 0;
    struct walk_result r = go(0x5000, WALK_WRITE);
    CHECK(r.status == WALK_OK && r.gpa.v == 0x5000 && r.references == 4,
          "no paging: one dimension");
}

static void pae_starts_at_a_register(void)
{
    build_long(4);
    registers.efer = 1ull << 11;
    registers.cr4 = CR4_PAE;
    registers.pdpte[2] = 0x3000 | P;
    put(0x3000 + 8 * 3, 0x4000 | P | W, 8);
    put(0x4000 + 8 * 5, 0x7000 | P | NX, 8);
    uint64_t at = 2ull << 30 | 3 << 21 | 5 << 12 | 0x10;
    struct walk_result r = go(at, WALK_READ);
    CHECK(r.status == WALK_OK && r.gpa.v == 0x7010 && r.references == 2, "read");
    CHECK(go(at, WALK_FETCH).error_code == (1 | 16), "fetch from NX");
    CHECK(go(at, WALK_WRITE).error_code == (1 | 2), "write");
    CHECK(go(at, WALK_USER).error_code == (1 | 4), "user");
    CHECK(go(1ull << 30, WALK_READ).error_code == 0, "PDPTE that is not present");
    put(0x4000 + 8 * 5, 0x7000 | P | 1ull << 52, 8);
    CHECK(go(at, WALK_READ).error_code == (1 | 8), "bits 62:52 are reserved");
}

static void paging_32_bit_has_4_mib_pages(void)
{
    build_long(4);
    registers.efer = 0;
    registers.cr4 = CR4_PSE;
    put(0x1000 + 4 * 1, 0x5000 | P | W | U, 4);
    put(0x5000 + 4 * 2, 0x8000 | P | W | U, 4);
    put(0x1000 + 4 * 2, 0x00c00000 | 1 << 13 | PS | P | W, 4);
    struct walk_result r = go(1u << 22 | 2 << 12 | 4, WALK_WRITE | WALK_USER | WALK_SET_AD);
    CHECK(r.status == WALK_OK && r.gpa.v == 0x8004 && r.references == 2, "4-KiB page");
    CHECK(read_memory(NULL, gpa(0x5008), 4) == (0x8000 | P | W | U | A | D), "A and D");
    CHECK(read_memory(NULL, gpa(0x1004), 4) == (0x5000 | P | W | U | A), "A of the directory");
    r = go(2u << 22 | 0x12345, WALK_READ);
    CHECK(r.status == WALK_OK && r.gpa.v == (1ull << 32 | 0x00c12345),
          "4-MiB page with PSE-36: 0x%llx", (unsigned long long)r.gpa.v);
    put(0x1000 + 4 * 2, 0x00e00000 | PS | P, 4);
    CHECK(go(2u << 22, WALK_READ).error_code == (1 | 8), "bit 21 is reserved");
    registers.cr4 = 0;
    r = go(2u << 22, WALK_READ);
    CHECK(r.status == WALK_OK && r.level == 1, "without PSE the bit is ignored: a table follows");
}

static void reserved_bits_fault_at_each_level(void)
{
    for (unsigned level = 1; level <= 5; level++) {
        uint64_t slot = (6 - level) * PAGE_SIZE;
        build_long(5);
        uint64_t good = read_memory(NULL, gpa(slot), 8);
        put(slot, good | 1ull << 40, 8);
        CHECK(go(0, WALK_READ).error_code == (1 | 8), "level %u, bit 40", level);
        put(slot, good | 1ull << 52, 8);
        CHECK(go(0, WALK_READ).status == WALK_OK, "level %u, bit 52 is ignored", level);
        put(slot, good | PS, 8);
        struct walk_result r = go(0, WALK_READ);
        bool ok = level == 1 ? r.status == WALK_OK : r.error_code == (1 | 8);
        CHECK(ok || level == 2 || level == 3, "level %u, PS", level);
        registers.efer &= ~(1ull << 11);
        put(slot, good | NX, 8);
        CHECK(go(0, WALK_READ).error_code == (1 | 8), "level %u, NX without EFER.NXE", level);
    }
    build_long(4);
    put(0x2000, PS | P, 8);
    registers.has_1g_pages = false;
    CHECK(go(0, WALK_READ).error_code == (1 | 8), "1-GiB page where there are none");
}

static void protection_keys_take_rights_from_user_pages(void)
{
    build_long(4);
    registers.cr4 |= CR4_PKE;
    put(0x4000, 0x9000 | P | W | U | 5ull << 59, 8);
    registers.pkru = 2u << 10; /* key 5: no writes */
    CHECK(go(0, WALK_USER).status == WALK_OK, "read");
    CHECK(go(0, WALK_USER | WALK_WRITE).error_code == (1 | 2 | 4 | 32), "write");
    CHECK(go(0, WALK_WRITE).error_code == (1 | 2 | 32), "write by the supervisor, WP set");
    registers.cr0 &= ~(1ull << 16);
    CHECK(go(0, WALK_WRITE).status == WALK_OK, "write by the supervisor, WP clear");
    registers.pkru = 1u << 10; /* no access */
    CHECK(go(0, WALK_USER).error_code == (1 | 4 | 32), "read");
    CHECK(go(0, WALK_USER | WALK_FETCH).status == WALK_OK, "fetches are not data");
    put(0x4000, 0x9000 | P | W | 5ull << 59, 8);
    CHECK(go(0, WALK_READ).status == WALK_OK, "supervisor pages have no keys");
}

static void marks_are_set_once_the_access_is_allowed(void)
{
    build_long(4);
    go(0, WALK_READ);
    CHECK(!(read_memory(NULL, gpa(0x1000), 8) & A), "not asked for");
    put(0x4000, 0x9000 | P | U, 8);
    go(0, WALK_WRITE | WALK_SET_AD);
    CHECK(!(read_memory(NULL, gpa(0x1000), 8) & A), "an access that faults");
    go(0, WALK_READ | WALK_SET_AD);
    for (unsigned i = 1; i <= 4; i++)
        CHECK((read_memory(NULL, gpa(i * PAGE_SIZE), 8) & (A | D)) == A, "table %u after a read",
              i);
    put(0x4000, 0x9000 | P | W | U, 8);
    go(0, WALK_WRITE | WALK_SET_AD);
    CHECK((read_memory(NULL, gpa(0x4000), 8) & (A | D)) == (A | D), "leaf after a write");
    CHECK(!(read_memory(NULL, gpa(0x3000), 8) & D), "tables have no D");
}

/* The entry changes between the read and the mark: the walk starts anew and keeps the change. */
static void a_racing_change_is_not_lost(void)
{
    for (int n = 0; n < 4; n++) {
        build_long(4);
        steal_after = n;
        struct walk_result r = go(0x10, WALK_READ | WALK_SET_AD);
        CHECK(r.status == WALK_OK && r.gpa.v == 0x9010, "walk %d", n);
        for (unsigned i = 0; i < 4; i++) {
            uint64_t slot = (i + 1) * PAGE_SIZE;
            uint64_t marks = read_memory(NULL, gpa(slot), 8) & (A | D);
            uint64_t want = i == (unsigned)n ? 0x60 : 0x20;
            CHECK(marks == want, "table %u after the change of table %d", i, n);
        }
    }
}

int main(void)
{
    RUN(references_follow_the_formula);
    RUN(pae_starts_at_a_register);
    RUN(paging_32_bit_has_4_mib_pages);
    RUN(reserved_bits_fault_at_each_level);
    RUN(protection_keys_take_rights_from_user_pages);
    RUN(marks_are_set_once_the_access_is_allowed);
    RUN(a_racing_change_is_not_lost);
    return test_status();
}
