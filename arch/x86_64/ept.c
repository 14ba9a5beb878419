/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM's extended page tables: its RAM and nothing else (SDM 3C 28.3). */
#include "arch/x86_64/vcpu.h"
#include "hv/arch.h"
#include "hv/memory.h"

/* EPTP, SDM 3C table 25-9 */
#define EPTP_MEMORY_WB 6ull
#define EPTP_LEVELS(n) ((uint64_t)((n)-1) << 3)
#define EPT_LEVELS     4u

static const struct ptab_format ept_format = {.present = EPT_RWX, .table = EPT_RWX};

static unsigned level_of_page(uint64_t page)
{
    return page >= PAGE_SIZE_1G ? 3 : page >= PAGE_SIZE_2M ? 2 : 1;
}

static bool map_ram(struct vm *vm)
{
    struct ptab *ept = &vm->arch->ept;

    return (!vm->ram.low || ptab_map(ept, 0, vm->ram.low, vm->ram_base, EPT_RWX | EPT_MEMORY_WB)) &&
           (!vm->ram.high || ptab_map(ept, CPT_HIGH_RAM, vm->ram.high,
                                      hpa_add(vm->ram_base, vm->ram.low), EPT_RWX | EPT_MEMORY_WB));
}

/* --- the windows of a compound page table (hv/paging/compound.h) ------------------------------ */

static uint64_t window_base(void)
{
    return cpt_ram_limit(arch_physical_bits());
}

static uint64_t alias_base(void)
{
    return 2 * window_base();
}

/* By the largest pages there are, whatever the guest's RAM is mapped by. */
static bool map_node_window(struct vm *vm)
{
    struct ptab *ept = &vm->arch->ept;
    unsigned wanted = ept->max_leaf;

    ept->max_leaf = vmx.max_ept_leaf;
    bool mapped =
        ptab_map(ept, window_base(), vm->block_size, vm->ram_base, EPT_READ | EPT_MEMORY_WB);
    ept->max_leaf = wanted;
    return mapped;
}

/*
 * The alias of a GiB shares the tables below its level-3 entry, which grants no writes for all of
 * them (SDM 3C 28.3.2: rights are those of all entries together). A level-3 leaf is copied.
 */
static bool alias_gib(struct vm *vm, uint64_t at)
{
    uint64_t *entry = ptab_entry(&vm->arch->ept, at, 3);
    uint64_t *alias = ptab_entry(&vm->arch->ept, alias_base() + at, 3);

    if (!entry || !alias)
        return false;
    __atomic_store_n(alias, *entry & ~EPT_WRITE, __ATOMIC_RELEASE);
    return true;
}

static bool map_alias(struct vm *vm)
{
    for (uint64_t at = 0; at < vm->ram.low; at += PAGE_SIZE_1G) {
        if (!alias_gib(vm, at))
            return false;
    }
    for (uint64_t at = 0; at < vm->ram.high; at += PAGE_SIZE_1G) {
        if (!alias_gib(vm, CPT_HIGH_RAM + at))
            return false;
    }
    return true;
}

/* Shared tables are freed once. */
static void unmap_alias_gib(struct vm *vm, uint64_t at)
{
    uint64_t *entry = ptab_entry(&vm->arch->ept, alias_base() + at, 3);

    if (entry) /* where there was no memory for it nothing is shared */
        *entry = 0;
}

static void unmap_alias(struct vm *vm)
{
    for (uint64_t at = 0; at < vm->ram.low; at += PAGE_SIZE_1G)
        unmap_alias_gib(vm, at);
    for (uint64_t at = 0; at < vm->ram.high; at += PAGE_SIZE_1G)
        unmap_alias_gib(vm, CPT_HIGH_RAM + at);
}

static bool has_windows(const struct vm *vm)
{
    return vm->settings->paging != PAGING_NESTED;
}

static bool create_windows(struct vm *vm)
{
    struct arch_vm *arch = vm->arch;
    size_t chunks = (vm->settings->memory >> PAGE_SHIFT_2M) + 2; /* low RAM may end within one */

    arch->protected_pages_pages = align_up(chunks * sizeof(uint16_t), PAGE_SIZE) >> PAGE_SHIFT;
    arch->protected_pages = host_pages_alloc(arch->protected_pages_pages);
    return arch->protected_pages && map_node_window(vm) && map_alias(vm);
}

bool ept_create(struct vm *vm, struct why *why)
{
    struct ptab *ept = &vm->arch->ept;
    unsigned wanted = level_of_page(vm->settings->ept_page);
    unsigned max_leaf = wanted < vmx.max_ept_leaf ? wanted : vmx.max_ept_leaf;

    if (has_windows(vm) && vm->ram.high + CPT_HIGH_RAM > window_base())
        return why_set(why,
                       "memory = %llu MiB: with %u bits of physical address, paging = %s leaves "
                       "guests less",
                       (unsigned long long)vm->settings->memory >> 20, arch_physical_bits(),
                       paging_mode_name(vm->settings->paging));
    if (!ptab_init(ept, &ept_format, &host_ptab_memory, EPT_LEVELS, max_leaf))
        return why_set(why, "no memory for EPT");
    /* EPT's own accessed and dirty flags stay off: with them, a walk of a guest table is a write to
     * it. */
    vm->arch->eptp = ept->root.v | EPTP_MEMORY_WB | EPTP_LEVELS(EPT_LEVELS);
    if (!map_ram(vm) || (has_windows(vm) && !create_windows(vm)))
        return why_set(why, "no memory for EPT"); /* arch_vm_destroy frees what there is */
    ept_invalidate(vm);
    return true;
}

void ept_destroy(struct vm *vm)
{
    ept_invalidate(vm);
    if (vm->arch->protected_pages) {
        unmap_alias(vm);
        host_pages_free(vm->arch->protected_pages, vm->arch->protected_pages_pages);
    }
    ptab_destroy(&vm->arch->ept);
}

/* --- write protection ------------------------------------------------------------------------- */

/* The counter of the 2 MiB of RAM that hold `at`: high RAM counts on where low RAM ends. */
static uint16_t *protected_in(const struct vm *vm, uint64_t at)
{
    uint64_t chunk = at >> PAGE_SHIFT_2M;

    if (at >= CPT_HIGH_RAM)
        chunk = (align_up(vm->ram.low, PAGE_SIZE_2M) + at - CPT_HIGH_RAM) >> PAGE_SHIFT_2M;
    return &vm->arch->protected_pages[chunk];
}

bool ept_protect(struct vm *vm, gpa_t page, bool protect)
{
    struct ptab *ept = &vm->arch->ept;
    uint16_t *count = protected_in(vm, page.v);

    /* Another virtual processor's step may have opened the page, or closed it, before its table was
     * given up. */
    if (vm->vcpu_count > 1 && ((ptab_lookup(ept, page.v).entry & EPT_WRITE) == 0) == protect)
        return true;
    if (!ptab_change(ept, page.v, PAGE_SIZE, protect ? EPT_WRITE : 0, protect ? 0 : EPT_WRITE))
        return false;
    if (protect) {
        (*count)++;
        /* The alias has the tables; but a 1-GiB page of its own, which may have been split. */
        return ept->max_leaf < 3 || alias_gib(vm, align_down(page.v, PAGE_SIZE_1G));
    }
    if (--*count == 0 && ept->max_leaf > 1)
        vm->arch->may_merge = true;
    return true;
}

static bool merge_range(struct vm *vm, uint64_t from, uint64_t size, hpa_t to)
{
    struct ptab *ept = &vm->arch->ept;
    unsigned wanted = ept->max_leaf;
    bool merged = false;

    ept->max_leaf = 2;
    for (uint64_t at = 0; at + PAGE_SIZE_2M <= size; at += PAGE_SIZE_2M) {
        if (*protected_in(vm, from + at) > 0 || ptab_lookup(ept, from + at).level != 1)
            continue;
        if (!merged) /* tables go: nobody may have cached pointers to them when they are used again
                      */
            vm_invalidate(vm);
        merged = true;
        ptab_map(ept, from + at, PAGE_SIZE_2M, hpa_add(to, at), EPT_RWX | EPT_MEMORY_WB);
    }
    ept->max_leaf = wanted;
    return merged;
}

void ept_merge(struct vm *vm)
{
    bool merged = false;

    if (!vm->arch->may_merge)
        return;
    vm->arch->may_merge = false;
    merged |= merge_range(vm, 0, vm->ram.low, vm->ram_base);
    merged |= merge_range(vm, CPT_HIGH_RAM, vm->ram.high, hpa_add(vm->ram_base, vm->ram.low));
    if (merged)
        vm_invalidate(vm);
}

unsigned ept_references(const struct vm *vm, gpa_t at)
{
    return EPT_LEVELS - ptab_lookup(&vm->arch->ept, at.v).level + 1;
}

void ept_invalidate(const struct vm *vm)
{
    invept(vmx.invept, vm->arch->eptp);
}
