/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables that the hypervisor builds: its own and each VM's EPT.
 *
 * Both are trees of 512-entry tables whose entries hold a physical address in bits 51:12 and mark a
 * leaf above level 1 by bit 7 (SDM 3A 4.5, SDM 3C 28.3.2); what differs is in `struct ptab_format`.
 * One editor serves both, and runs on the host against memory of the test's own.
 *
 * Nothing here invalidates: the caller knows which processors use the tree, and when (SDM
 * 3A 4.10.4, SDM 3C 28.4.3).
 */
#ifndef HV_PTAB_H
#define HV_PTAB_H

#include "hv/types.h"

#define PTAB_ENTRIES      512u
#define PTAB_ADDRESS_MASK 0x000ffffffffff000ull
#define PTAB_LARGE        (1ull << 7) /* in an entry of level 2 or 3: a leaf */
#define PTAB_LEVELS_MAX   5u

struct ptab_format {
    uint64_t present; /* an entry with none of these bits is not present */
    uint64_t table;   /* attributes of an entry that points to a table: all that leaves may grant */
};

/* Where tables live. A table is one zeroed page. */
struct ptab_memory {
    hpa_t (*alloc)(void *context); /* HPA_NONE when there is none */
    void (*free)(void *context, hpa_t table);
    uint64_t *(*map)(void *context, hpa_t table);
    void *context;
};

struct ptab {
    const struct ptab_format *format;
    const struct ptab_memory *memory;
    hpa_t root;
    unsigned levels;   /* 4 or 5 */
    unsigned max_leaf; /* largest leaf: level 1 (4 KiB), 2 (2 MiB) or 3 (1 GiB) */
    uint64_t tables;   /* pages in the tree, the root included */
};

/* Bytes that one entry of `level` covers. */
static inline uint64_t ptab_span(unsigned level)
{
    return 1ull << (PAGE_SHIFT + 9 * (level - 1));
}

/* An empty tree. False when there is no memory for the root. */
bool ptab_init(struct ptab *ptab, const struct ptab_format *format,
               const struct ptab_memory *memory, unsigned levels, unsigned max_leaf);

/* Give all tables back. What the leaves lead to is not touched. */
void ptab_destroy(struct ptab *ptab);

/*
 * Map [from, from + size) to [to, ...) with the attribute bits `attributes` in each leaf, by the
 * largest leaves that alignment and max_leaf allow. Replaces what was mapped there. All values page
 * aligned. False when a table could not be had: a part may then be mapped.
 */
bool ptab_map(struct ptab *ptab, uint64_t from, uint64_t size, hpa_t to, uint64_t attributes);

/*
 * In all leaves of [from, from + size): clear the bits of `clear`, then set those of `set`. Larger
 * leaves that reach beyond the range are split. What is not mapped stays so. False as in ptab_map.
 */
bool ptab_change(struct ptab *ptab, uint64_t from, uint64_t size, uint64_t clear, uint64_t set);

/* Unmap [from, from + size), splitting larger leaves. False as in ptab_map. */
bool ptab_unmap(struct ptab *ptab, uint64_t from, uint64_t size);

/* The entry of `level` for `at`, made with the tables above it. NULL without memory, or below a
 * leaf. */
uint64_t *ptab_entry(struct ptab *ptab, uint64_t at, unsigned level);

struct ptab_leaf {
    bool present;
    unsigned level; /* of the entry at which the walk ended: it read levels - level + 1 entries */
    uint64_t entry;
    hpa_t to; /* where `at` itself leads, if present */
};

/* Walk the tree for `at` as the processor would, permissions left to the caller. */
struct ptab_leaf ptab_lookup(const struct ptab *ptab, uint64_t at);

#endif
