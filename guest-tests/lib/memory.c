/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames of the guest's RAM, and its page tables (SDM 3A 4.5). */
#include "guest-tests/lib/lib.h"

#define TABLE_BITS (PTE_P | PTE_W | PTE_U)
#define LEVELS     4u

/* guest.ld */
extern char image_start[], image_end[];

const struct tf_guest_info *guest_info;

static uint64_t next_frame, end_frames; /* never used yet */
static uint64_t free_list;              /* freed frames, linked by their first word */
static uint64_t kernel_entry;           /* PML4 entry 0 of every space */

void *memset(void *to, int value, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;

    for (size_t i = 0; i < bytes; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

/* Low RAM above the image, up to what the loader put at its end. */
static void frames_init(void)
{
    uint64_t end =
        is_native() ? guest_info->ram[1].base + guest_info->ram[1].size : guest_info->ram[0].size;

    if (guest_info->reserved_base < end)
        end = guest_info->reserved_base;
    for (uint64_t i = 0; i < guest_info->module_count; i++) {
        uint64_t base = ((const struct tf_guest_module *)guest_info->modules)[i].base;
        end = base < end ? base : end;
    }
    next_frame = is_native() ? guest_info->ram[1].base : (uint64_t)image_end;
    end_frames = end & ~(PAGE - 1);
}

static void clear_page(uint64_t frame)
{
    uint64_t count = PAGE / sizeof(uint64_t);

    __asm__ volatile("rep stosq" : "+D"(frame), "+c"(count) : "a"(0ull) : "memory");
}

uint64_t page_alloc(void)
{
    uint64_t frame = free_list;

    if (frame) {
        free_list = *word_at(frame);
    } else {
        if (next_frame >= end_frames)
            fail("out of memory: give the VM more\n");
        frame = next_frame;
        next_frame += PAGE;
    }
    clear_page(frame);
    return frame;
}

void page_free(uint64_t frame)
{
    *word_at(frame) = free_list;
    free_list = frame;
}

uint64_t run_alloc(uint64_t bytes, uint64_t align)
{
    uint64_t base = (next_frame + align - 1) & ~(align - 1);

    if (base + bytes > end_frames)
        fail("out of memory: give the VM more\n");
    for (; next_frame < base; next_frame += PAGE)
        page_free(next_frame);
    next_frame = base + bytes;
    for (uint64_t at = base; at < next_frame; at += PAGE)
        clear_page(at);
    return base;
}

static uint64_t index_of(uint64_t at, unsigned level)
{
    return at >> (12 + 9 * (level - 1)) & (ENTRIES - 1);
}

uint64_t *space_entry(uint64_t root, uint64_t at, unsigned level)
{
    uint64_t table = root;

    for (unsigned l = LEVELS; l > level; l--) {
        uint64_t *entry = (uint64_t *)table + index_of(at, l);
        if (!(*entry & PTE_P))
            *entry = page_alloc() | TABLE_BITS;
        table = *entry & PTE_ADDRESS;
    }
    return (uint64_t *)table + index_of(at, level);
}

uint64_t *space_find(uint64_t root, uint64_t at, unsigned level)
{
    uint64_t table = root;

    for (unsigned l = LEVELS; l > level; l--) {
        uint64_t entry = ((uint64_t *)table)[index_of(at, l)];
        if (!(entry & PTE_P) || (entry & PTE_PS))
            return NULL;
        table = entry & PTE_ADDRESS;
    }
    return (uint64_t *)table + index_of(at, level);
}

void space_map(uint64_t root, uint64_t at, uint64_t frame, uint64_t bits)
{
    *space_entry(root, at, 1) = frame | bits | PTE_P;
}

uint64_t space_new(void)
{
    uint64_t root = page_alloc();

    *(uint64_t *)root = kernel_entry;
    return root;
}

static void free_table(uint64_t table, unsigned level)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint64_t entry = ((uint64_t *)table)[i];
        if ((entry & PTE_P) && level > 1 && !(entry & PTE_PS))
            free_table(entry & PTE_ADDRESS, level - 1);
    }
    page_free(table);
}

void space_free(uint64_t root)
{
    for (unsigned i = 1; i < ENTRIES; i++) {
        uint64_t entry = ((uint64_t *)root)[i];
        if (entry & PTE_P)
            free_table(entry & PTE_ADDRESS, LEVELS - 1);
    }
    page_free(root);
}

/* The one-to-one map of the first 4 GiB, or of all RAM, in 2-MiB pages. */
static uint64_t build_kernel_space(void)
{
    uint64_t last = guest_info->ram[guest_info->ram_count - 1].base +
                    guest_info->ram[guest_info->ram_count - 1].size;
    uint64_t end = last > 4 * PAGE_1G ? last : 4 * PAGE_1G;
    uint64_t root = page_alloc();

    for (uint64_t at = 0; at < end; at += PAGE_2M)
        *space_entry(root, at, 2) = at | PTE_P | PTE_W | PTE_PS;
    kernel_entry = *(uint64_t *)root;
    return root;
}

void guest_start(const struct tf_guest_info *info);

void guest_start(const struct tf_guest_info *info)
{
    guest_info = info;
    traps_init();
    if (info->magic != TF_GUEST_MAGIC || info->version != TF_ABI_VERSION)
        fail("guest information of an unknown version\n");
    frames_init();
    write_cr3(build_kernel_space());
    guest_main();
    guest_exit(0);
}
