/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A trial of the compacted form of XSAVE (SDM 1 13.4.3), before guests are offered it: some
 * emulated processors have the instruction and lose state by it (docs/machines.md).
 *
 * For each set of state components, a pattern goes into the registers by XRSTOR in the standard
 * form, out by XSAVEC, the registers are put into their initial state, and the compacted area comes
 * back by XRSTOR; what XSAVE then finds must be the pattern. The hypervisor itself uses none of
 * these registers.
 */
#include <string.h>

#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/vcpu.h"
#include "hv/memory.h"

#define XSTATE_BV_OFFSET   512u /* of the header, SDM 1 13.4.2 */
#define XSAVE_HEADER_WORDS 8u
#define XCOMP_COMPACTED    BIT(63)
#define COMPONENT_AVX      2u
#define COMPONENT_LAST     7u /* of those in the trial: AVX, and AVX-512's three */
#define XCR0_LEGACY        (BIT(0) | BIT(1))
#define XSAVE_ALL          0xffffffffu

static void restore(const void *area)
{
    __asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(XSAVE_ALL), "d"(XSAVE_ALL) : "memory");
}

static void save(void *area)
{
    __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(XSAVE_ALL), "d"(XSAVE_ALL) : "memory");
}

static void save_compacted(void *area)
{
    __asm__ volatile("xsavec64 (%0)" : : "r"(area), "a"(XSAVE_ALL), "d"(XSAVE_ALL) : "memory");
}

/* Bytes that are of one component and one place in it alone, none of them 0. */
static void fill(uint8_t *area, uint64_t components)
{
    for (uint32_t c = COMPONENT_AVX; c <= COMPONENT_LAST; c++) {
        struct cpuid_regs r = cpuid(0xd, c);
        for (uint32_t i = 0; (components >> c & 1) && i < r.eax; i++)
            area[r.ebx + i] = (uint8_t)((i * 7 + c * 31) % 251 + 1);
    }
    *(uint64_t *)(void *)(area + XSTATE_BV_OFFSET) = components;
}

static bool same(const uint8_t *a, const uint8_t *b, uint64_t components)
{
    for (uint32_t c = COMPONENT_AVX; c <= COMPONENT_LAST; c++) {
        struct cpuid_regs r = cpuid(0xd, c);
        if ((components >> c & 1) && memcmp(a + r.ebx, b + r.ebx, r.eax) != 0)
            return false;
    }
    return true;
}

/* SDM 1 13.4.2: what is saved, in the compacted form of all that was asked for, and zeros. */
static bool header_is_good(const uint8_t *area, uint64_t components)
{
    const uint64_t *header = (const void *)(area + XSTATE_BV_OFFSET);
    uint64_t rest = 0;

    for (unsigned i = 2; i < XSAVE_HEADER_WORDS; i++)
        rest |= header[i];
    return (header[0] & ~XCR0_LEGACY) == components &&
           header[1] == (XCOMP_COMPACTED | guest_xcr0_offered()) && rest == 0;
}

static bool keeps(uint8_t *area[4], size_t bytes, uint64_t components)
{
    for (unsigned i = 0; i < 4; i++)
        memset(area[i], 0, bytes);
    fill(area[0], components);
    restore(area[0]);
    save_compacted(area[1]);
    if (!header_is_good(area[1], components))
        return false; /* XRSTOR would raise #GP */
    restore(area[3]); /* nothing but zeros: all components to their initial state */
    restore(area[1]);
    save(area[2]);
    restore(area[3]);
    return same(area[0], area[2], components);
}

static bool try_all(uint8_t *area[4], size_t bytes)
{
    uint64_t offered = guest_xcr0_offered();

    for (uint64_t set = 1; set < BIT(COMPONENT_LAST - COMPONENT_AVX + 1); set++) {
        uint64_t components = set << COMPONENT_AVX;
        if ((components & ~offered) == 0 && !keeps(area, bytes, components))
            return false;
    }
    return true;
}

bool xsave_compaction_works(void)
{
    size_t pages = context_fpu_pages();
    uint8_t *memory = host_pages_alloc(4 * pages);
    uint8_t *area[4];

    if (!memory)
        return false;
    for (unsigned i = 0; i < 4; i++)
        area[i] = memory + i * pages * PAGE_SIZE;
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXSAVE);
    uint64_t xcr0 = read_xcr0();
    write_xcr0(guest_xcr0_offered());
    bool works = try_all(area, pages * PAGE_SIZE);
    write_xcr0(xcr0);
    host_pages_free(memory, 4 * pages);
    return works;
}
