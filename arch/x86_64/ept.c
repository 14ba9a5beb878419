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

bool ept_create(struct vm *vm, struct why *why)
{
    struct ptab *ept = &vm->arch->ept;
    unsigned wanted = level_of_page(vm->settings->ept_page);
    unsigned max_leaf = wanted < vmx.max_ept_leaf ? wanted : vmx.max_ept_leaf;

    if (!ptab_init(ept, &ept_format, &host_ptab_memory, EPT_LEVELS, max_leaf))
        return why_set(why, "no memory for EPT");
    if ((vm->ram.low && !ptab_map(ept, 0, vm->ram.low, vm->ram_base, EPT_RWX | EPT_MEMORY_WB)) ||
        (vm->ram.high && !ptab_map(ept, GIB(4), vm->ram.high, hpa_add(vm->ram_base, vm->ram.low),
                                   EPT_RWX | EPT_MEMORY_WB))) {
        ptab_destroy(ept);
        return why_set(why, "no memory for EPT");
    }
    /* EPT's own accessed and dirty flags stay off: with them, a walk of a guest table is a write to
     * it. */
    vm->arch->eptp = ept->root.v | EPTP_MEMORY_WB | EPTP_LEVELS(EPT_LEVELS);
    ept_invalidate(vm);
    return true;
}

void ept_destroy(struct vm *vm)
{
    ept_invalidate(vm);
    ptab_destroy(&vm->arch->ept);
}

unsigned ept_references(const struct vm *vm, gpa_t at)
{
    return EPT_LEVELS - ptab_lookup(&vm->arch->ept, at.v).level + 1;
}

void ept_invalidate(const struct vm *vm)
{
    invept(vmx.invept, vm->arch->eptp);
}
