/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See walk.h. The four paging modes differ in a row of `struct geometry`; one loop walks them all,
 * and gathers on its way what the permission check at the end needs.
 */
#include "hv/paging/walk.h"

#include "hv/paging/pte.h"

#define PTE_KEY_OF(e) ((unsigned)((e) >> 59) & 15)

#define CR0_WP    (1ull << 16)
#define CR0_PG    (1ull << 31)
#define CR4_PSE   (1ull << 4)
#define CR4_PAE   (1ull << 5)
#define CR4_LA57  (1ull << 12)
#define CR4_SMEP  (1ull << 20)
#define CR4_SMAP  (1ull << 21)
#define CR4_PKE   (1ull << 22)
#define EFER_LMA  (1ull << 10)
#define EFER_NXE  (1ull << 11)
#define RFLAGS_AC (1ull << 18)

#define PSE36_HIGH_SHIFT 19 /* bits 20:13 of a 4-MiB entry are bits 39:32 of the address */
#define PSE36_HIGH_MASK  0xff00000000ull
#define PSE36_RESERVED   (1ull << 21)

#define ADDRESS_MASK_32 0xfffff000ull

struct geometry {
    unsigned levels;      /* that are read from memory */
    unsigned entry_bytes; /* 4 or 8 */
    unsigned index_bits;  /* of the address, a level */
    unsigned max_leaf;    /* the highest level whose entries may be leaves */
};

static struct geometry geometry_of(const struct walk_registers *r)
{
    if (r->efer & EFER_LMA)
        return (struct geometry){r->cr4 & CR4_LA57 ? 5 : 4, 8, 9, r->has_1g_pages ? 3 : 2};
    if (r->cr4 & CR4_PAE)
        return (struct geometry){2, 8, 9, 2};
    return (struct geometry){2, 4, 10, r->cr4 & CR4_PSE ? 2 : 1};
}

/* Bits [high, low] set. */
static uint64_t bits(unsigned high, unsigned low)
{
    return high < low ? 0 : (~0ull >> (63 - high)) & (~0ull << low);
}

/* SDM 3A tables 4-5, 4-9 to 4-11, 4-14 to 4-19: bits that must be 0 in a present entry. */
static uint64_t reserved_bits(const struct walk_registers *r, const struct geometry *g,
                              unsigned level, bool leaf)
{
    if (g->entry_bytes == 4)
        return leaf && level == 2 ? PSE36_RESERVED : 0;

    uint64_t reserved = bits(51, r->physical_bits);
    if (!(r->efer & EFER_LMA))
        reserved |= bits(62, 52);
    if (!(r->efer & EFER_NXE))
        reserved |= PTE_NX;
    if (leaf && level > 1)
        reserved |= bits(PAGE_SHIFT + 9 * (level - 1) - 1, 13); /* bit 12 is PAT */
    if (!leaf && level > g->max_leaf)
        reserved |= PTE_PS;
    return reserved;
}

/* What the entries of a walk grant together, SDM 3A 4.6. */
struct rights {
    bool writable;
    bool user;
    bool execute;
    unsigned key; /* of the leaf */
};

static bool data_allowed(const struct walk_registers *r, const struct rights *rights,
                         unsigned access)
{
    bool write = (access & WALK_WRITE) != 0;

    if (access & WALK_USER)
        return rights->user && (rights->writable || !write);
    if (rights->user && (r->cr4 & CR4_SMAP) &&
        ((access & WALK_IMPLICIT) || !(r->rflags & RFLAGS_AC)))
        return false;
    return rights->writable || !write || !(r->cr0 & CR0_WP);
}

static bool fetch_allowed(const struct walk_registers *r, const struct rights *rights,
                          unsigned access)
{
    if (!rights->execute)
        return false;
    if (access & WALK_USER)
        return rights->user;
    return !rights->user || !(r->cr4 & CR4_SMEP);
}

/* Protection keys of user pages, SDM 3A 4.6.2: AD is bit 2n of PKRU, WD bit 2n + 1. */
static bool key_allows(const struct walk_registers *r, const struct rights *rights, unsigned access)
{
    if (!(r->cr4 & CR4_PKE) || !(r->efer & EFER_LMA) || !rights->user || (access & WALK_FETCH))
        return true;
    unsigned key = r->pkru >> (2 * rights->key) & 3;
    if (key & 1)
        return false;
    bool write_counts = (access & WALK_USER) || (r->cr0 & CR0_WP);
    return !(key & 2) || !(access & WALK_WRITE) || !write_counts;
}

/* 0, or the bits of a fault's error code that tell why the rights do not suffice. */
static uint32_t check_access(const struct walk_registers *r, const struct rights *rights,
                             unsigned access)
{
    bool allowed =
        access & WALK_FETCH ? fetch_allowed(r, rights, access) : data_allowed(r, rights, access);

    if (!allowed)
        return PF_P;
    return key_allows(r, rights, access) ? 0 : PF_P | PF_PK;
}

static uint32_t error_code(const struct walk_registers *r, unsigned access, uint32_t cause)
{
    bool reports_fetch = ((r->efer & EFER_NXE) && (r->cr4 & CR4_PAE)) || (r->cr4 & CR4_SMEP);

    return cause | (access & WALK_WRITE ? PF_W : 0) | (access & WALK_USER ? PF_U : 0) |
           ((access & WALK_FETCH) && reports_fetch ? PF_I : 0);
}

static struct walk_result fault(struct walk_result result, const struct walk_registers *r,
                                unsigned access, uint32_t cause)
{
    result.status = WALK_FAULT;
    result.error_code = error_code(r, access, cause);
    return result;
}

/* The physical address that a leaf of `level` gives for the page's byte 0. */
static uint64_t leaf_base(const struct geometry *g, uint64_t entry, unsigned level, uint64_t span)
{
    if (g->entry_bytes == 4 && level == 2)
        return (entry & ~(span - 1) & 0xffffffff) | (entry << PSE36_HIGH_SHIFT & PSE36_HIGH_MASK);
    if (g->entry_bytes == 4)
        return entry & ADDRESS_MASK_32;
    return entry & PTE_ADDRESS & ~(span - 1);
}

static unsigned count_access(const struct walk_memory *memory, gpa_t at)
{
    return 1 + (memory->nested_references ? memory->nested_references(memory->context, at) : 0);
}

/* An entry that the walk used, to be marked once the access is known to be allowed. */
struct step {
    gpa_t slot;
    uint64_t entry;
};

/* Set A in all steps, D in the last for a write. False if another processor changed one meanwhile.
 */
static bool mark_steps(const struct walk_memory *memory, const struct geometry *g,
                       const struct step *steps, unsigned count, unsigned access)
{
    for (unsigned i = 0; i < count; i++) {
        bool dirty = i == count - 1 && (access & WALK_WRITE);
        uint64_t marked = steps[i].entry | PTE_A | (dirty ? PTE_D : 0);
        if (marked != steps[i].entry &&
            !memory->compare_and_swap(memory->context, steps[i].slot, g->entry_bytes,
                                      steps[i].entry, marked))
            return false;
    }
    return true;
}

/* One try. *retry is set when the entries changed under it and the walk must start anew. */
static struct walk_result walk_once(const struct walk_memory *memory,
                                    const struct walk_registers *r, gva_t at, unsigned access,
                                    bool *retry)
{
    struct walk_result result = {.status = WALK_OK};
    struct geometry g = geometry_of(r);
    struct rights rights = {.writable = true, .user = true, .execute = true};
    struct step steps[PT_LEVELS];
    unsigned count = 0;
    uint64_t address_mask = g.entry_bytes == 4 ? ADDRESS_MASK_32 : PTE_ADDRESS;
    uint64_t table = r->cr3 & address_mask;

    *retry = false;
    if (g.levels == 2 && g.entry_bytes == 8) { /* PAE: the first step is a register, not memory */
        table = r->pdpte[at.v >> 30 & 3];
        result.level = 3;
        if (!(table & PTE_P))
            return fault(result, r, access, 0);
        table &= PTE_ADDRESS;
    }

    for (unsigned level = g.levels;; level--) {
        unsigned shift = PAGE_SHIFT + g.index_bits * (level - 1);
        uint64_t span = 1ull << shift;
        uint64_t index = at.v >> shift & ((1u << g.index_bits) - 1);
        gpa_t slot = gpa(table + index * g.entry_bytes);
        uint64_t entry = memory->read(memory->context, slot, g.entry_bytes);
        bool leaf = level == 1 || (level <= g.max_leaf && (entry & PTE_PS));

        result.references += count_access(memory, slot);
        result.level = level;
        if (!(entry & PTE_P))
            return fault(result, r, access, 0);
        if (entry & reserved_bits(r, &g, level, leaf))
            return fault(result, r, access, PF_P | PF_RSVD);
        rights.writable &= (entry & PTE_W) != 0;
        rights.user &= (entry & PTE_U) != 0;
        rights.execute &= g.entry_bytes == 4 || !(entry & PTE_NX);
        steps[count++] = (struct step){slot, entry};
        if (!leaf) {
            table = entry & address_mask;
            continue;
        }

        rights.key = PTE_KEY_OF(entry);
        uint32_t denied = access & WALK_NO_CHECK ? 0 : check_access(r, &rights, access);
        if (denied)
            return fault(result, r, access, denied);
        *retry = (access & WALK_SET_AD) && !mark_steps(memory, &g, steps, count, access);
        result.gpa = gpa(leaf_base(&g, entry, level, span) + (at.v & (span - 1)));
        result.references += count_access(memory, result.gpa) - 1;
        return result;
    }
}

struct walk_result walk(const struct walk_memory *memory, const struct walk_registers *r, gva_t at,
                        unsigned access)
{
    struct walk_result result = {.status = WALK_OK, .gpa = gpa(at.v)};
    bool retry;

    if (!(r->cr0 & CR0_PG)) {
        result.references = count_access(memory, result.gpa) - 1;
        return result;
    }
    do {
        result = walk_once(memory, r, at, access, &retry);
    } while (retry);
    return result;
}
