/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bits of 64-bit paging-structure entries, SDM 3A tables 4-15 to 4-20:
 *
 *   63 62  59 58  52 51            12 11  9  8  7  6 5  4   3  2 1 0
 *   NX  key   ignored   address        ign.  G PS  D A PCD PWT U W P
 *
 * Bit 7 is PAT in an entry of level 1, PS above; a leaf above level 1 has PAT in bit 12.
 */
#ifndef HV_PAGING_PTE_H
#define HV_PAGING_PTE_H

#include "hv/types.h"

#define PTE_P         (1ull << 0)
#define PTE_W         (1ull << 1)
#define PTE_U         (1ull << 2)
#define PTE_PWT       (1ull << 3)
#define PTE_PCD       (1ull << 4)
#define PTE_A         (1ull << 5)
#define PTE_D         (1ull << 6)
#define PTE_PS        (1ull << 7)
#define PTE_G         (1ull << 8)
#define PTE_PAT_LARGE (1ull << 12)
#define PTE_KEY       (15ull << 59)
#define PTE_NX        (1ull << 63)
#define PTE_ADDRESS   0x000ffffffffff000ull

#define PT_ENTRIES 512u
#define PT_LEVELS  5u /* at most */

/* Bits of a page fault's error code, SDM 3A figure 4-12. */
#define PF_P    (1u << 0)
#define PF_W    (1u << 1)
#define PF_U    (1u << 2)
#define PF_RSVD (1u << 3)
#define PF_I    (1u << 4)
#define PF_PK   (1u << 5)

/* Bytes that an entry of `level` covers, and the index of the entry for `at` in a table of it. */
static inline uint64_t pt_span(unsigned level)
{
    return 1ull << (PAGE_SHIFT + 9 * (level - 1));
}

static inline unsigned pt_index(gva_t at, unsigned level)
{
    return (unsigned)(at.v >> (PAGE_SHIFT + 9 * (level - 1))) & (PT_ENTRIES - 1);
}

/* Whether a present entry of `level` maps memory, rather than a table. `max_leaf`: 2, or 3 with
 * 1-GiB pages. */
static inline bool pt_is_leaf(uint64_t entry, unsigned level, unsigned max_leaf)
{
    return level == 1 || (level <= max_leaf && (entry & PTE_PS));
}

#endif
