/* SPDX-License-Identifier: BSD-2-Clause */
/* Page tables for guests that are entered in long mode: guest-physical addresses one to one. */
#include "hv/loader_formats.h"

#define PTE_P     (1ull << 0)
#define PTE_W     (1ull << 1)
#define PTE_LARGE (1ull << 7)
#define ENTRIES   512u

uint64_t load_tables_bytes(uint64_t gib)
{
    return (2 + gib) * PAGE_SIZE; /* PML4, PDPT, a page directory for each GiB */
}

void load_build_tables(const struct load *load, uint64_t at, uint64_t gib)
{
    uint64_t *pml4 = load_host(load, at);
    uint64_t *pdpt = load_host(load, at + PAGE_SIZE);
    uint64_t first_directory = at + 2 * PAGE_SIZE;

    pml4[0] = (at + PAGE_SIZE) | PTE_P | PTE_W;
    for (uint64_t g = 0; g < gib; g++) {
        uint64_t *directory = load_host(load, first_directory + g * PAGE_SIZE);
        pdpt[g] = (first_directory + g * PAGE_SIZE) | PTE_P | PTE_W;
        for (uint64_t i = 0; i < ENTRIES; i++)
            directory[i] = (g * GIB(1) + i * PAGE_SIZE_2M) | PTE_P | PTE_W | PTE_LARGE;
    }
}
