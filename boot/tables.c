/* SPDX-License-Identifier: BSD-2-Clause */
/* The page tables on which the hypervisor starts (boot/handoff.h), SDM 3A 4.5. */
#include "arch/x86_64/cpu.h"
#include "boot/boot.h"

#define PTE_P     BIT(0)
#define PTE_W     BIT(1)
#define PTE_LARGE BIT(7)
#define PTE_NX    BIT(63)
#define ADDRESS   0x000ffffffffff000ull
#define ENTRIES   512u

#define BYTES_2M (2ull << 20)
#define BYTES_1G (1ull << 30)

static uint64_t slot(uint64_t at, unsigned level)
{
    return at >> (12 + 9 * (level - 1)) & (ENTRIES - 1);
}

/* The table below `table`'s entry for `at`, made if it is missing; NULL without memory. */
static uint64_t *descend(uint64_t *table, uint64_t at, unsigned level)
{
    uint64_t *entry = &table[slot(at, level)];

    if (!(*entry & PTE_P)) {
        uint64_t page = loader_pages(PAGE_BYTES, PAGE_BYTES);
        if (!page)
            return NULL;
        *entry = page | PTE_P | PTE_W;
    }
    return (uint64_t *)(*entry & ADDRESS);
}

/* Map one page of `level` (1, 2 or 3). */
static BOOLEAN map_page(uint64_t *root, uint64_t from, uint64_t to, unsigned level, uint64_t bits)
{
    uint64_t *table = root;

    for (unsigned l = 4; l > level; l--) {
        table = descend(table, from, l);
        if (!table)
            return FALSE;
    }
    table[slot(from, level)] = to | bits | PTE_P | (level > 1 ? PTE_LARGE : 0);
    return TRUE;
}

static BOOLEAN map_one_to_one(uint64_t *root, uint64_t end)
{
    BOOLEAN has_1g = (cpuid(0x80000001, 0).edx & CPUID_EXT1_EDX_1G) != 0;
    uint64_t step = has_1g ? BYTES_1G : BYTES_2M;

    for (uint64_t at = 0; at < end; at += step) {
        if (!map_page(root, at, at, has_1g ? 3 : 2, PTE_W))
            return FALSE;
    }
    return TRUE;
}

static BOOLEAN map_image(uint64_t *root, const struct handoff *handoff,
                         const struct loaded_image *image)
{
    for (uint64_t i = 0; i < image->segment_count; i++) {
        const struct loaded_segment *s = &image->segment[i];
        uint64_t bits = (s->writable ? PTE_W : 0) | (s->executable ? 0 : PTE_NX);
        for (uint64_t at = s->start; at < s->start + s->bytes; at += PAGE_BYTES) {
            if (!map_page(root, at, at - handoff->hv_virtual + handoff->hv_base, 1, bits))
                return FALSE;
        }
    }
    return TRUE;
}

EFI_STATUS build_tables(const struct handoff *handoff, const struct loaded_image *image,
                        uint64_t ram_end, uint64_t *cr3)
{
    uint64_t end = ram_end > 4 * BYTES_1G ? ram_end : 4 * BYTES_1G;
    uint64_t *root = (uint64_t *)loader_pages(PAGE_BYTES, PAGE_BYTES);

    if (!root || !map_one_to_one(root, end) || !map_image(root, handoff, image))
        return FAIL(EFI_OUT_OF_RESOURCES, L"too little memory for page tables.");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    *cr3 = (uint64_t)root;
    return EFI_SUCCESS;
}
