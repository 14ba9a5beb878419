/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory-type range registers (SDM 3A 12.11) as a guest sees them: it finds what firmware would
 * have left, may change it, and nothing comes of it.
 */
#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/vcpu.h"

#define MSR_MTRR_BASE0  0x200u /* base and mask of the variable ranges, in turn */
#define MTRRCAP_FIXED   BIT(8)
#define MTRRCAP_WC      BIT(10)
#define DEF_TYPE_FIXED  BIT(10)
#define DEF_TYPE_ENABLE BIT(11)
#define DEF_TYPE_BITS   (DEF_TYPE_ENABLE | DEF_TYPE_FIXED | 0xff)
#define MASK_VALID      BIT(11)
#define TYPE_OF_RANGE   0xffull
#define FIXED_ALL_WB    0x0606060606060606ull
#define DEVICES_FROM    GIB(3) /* one GiB of device space below 4 GiB */

/* Memory types, SDM 3A table 12-2 */
enum { TYPE_UC = 0, TYPE_WC = 1, TYPE_WT = 4, TYPE_WP = 5, TYPE_WB = 6 };

static const uint32_t fixed_mtrrs[MTRR_FIXED] = {
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
};

static uint64_t physical_mask(void)
{
    return BIT(guest_physical_bits()) - 1;
}

void guest_mtrrs_init(struct guest_mtrrs *mtrrs)
{
    mtrrs->def_type = DEF_TYPE_ENABLE | DEF_TYPE_FIXED | TYPE_WB;
    for (unsigned i = 0; i < MTRR_FIXED; i++)
        mtrrs->fixed[i] = FIXED_ALL_WB;
    mtrrs->base[0] = DEVICES_FROM | TYPE_UC;
    mtrrs->mask[0] = (~(PAGE_SIZE_1G - 1) & physical_mask()) | MASK_VALID;
}

/* The register's place; NULL if it is none. */
static uint64_t *mtrr_at(struct guest_mtrrs *mtrrs, uint32_t msr)
{
    uint32_t n = msr - MSR_MTRR_BASE0;

    if (n < 2 * MTRR_VARIABLE)
        return n % 2 == 0 ? &mtrrs->base[n / 2] : &mtrrs->mask[n / 2];
    if (msr == MSR_MTRR_DEF_TYPE)
        return &mtrrs->def_type;
    for (unsigned i = 0; i < MTRR_FIXED; i++) {
        if (fixed_mtrrs[i] == msr)
            return &mtrrs->fixed[i];
    }
    return NULL;
}

bool guest_mtrr_read(struct guest_mtrrs *mtrrs, uint32_t msr, uint64_t *value)
{
    if (msr == MSR_MTRRCAP) {
        *value = MTRRCAP_WC | MTRRCAP_FIXED | MTRR_VARIABLE;
        return true;
    }
    const uint64_t *at = mtrr_at(mtrrs, msr);
    if (at)
        *value = *at;
    return at != NULL;
}

static bool is_memory_type(uint64_t type)
{
    return type == TYPE_UC || type == TYPE_WC || type == TYPE_WT || type == TYPE_WP ||
           type == TYPE_WB;
}

static bool is_fixed(uint32_t msr)
{
    return msr >= fixed_mtrrs[0] && msr <= fixed_mtrrs[MTRR_FIXED - 1];
}

bool guest_mtrr_write(struct guest_mtrrs *mtrrs, uint32_t msr, uint64_t value)
{
    uint64_t *at = mtrr_at(mtrrs, msr);
    uint32_t n = msr - MSR_MTRR_BASE0;
    bool valid = true;

    if (!at)
        return false;
    if (n < 2 * MTRR_VARIABLE && n % 2 == 0)
        valid = is_memory_type(value & TYPE_OF_RANGE) &&
                !(value & ~(physical_mask() & ~(PAGE_SIZE - 1)) & ~TYPE_OF_RANGE);
    else if (n < 2 * MTRR_VARIABLE)
        valid = !(value & ~((physical_mask() & ~(PAGE_SIZE - 1)) | MASK_VALID));
    else if (msr == MSR_MTRR_DEF_TYPE)
        valid = is_memory_type(value & TYPE_OF_RANGE) && !(value & ~DEF_TYPE_BITS);
    for (unsigned i = 0; i < 8 && is_fixed(msr); i++) /* a type in each byte */
        valid = valid && is_memory_type(value >> 8 * i & TYPE_OF_RANGE);
    if (valid)
        *at = value;
    return valid;
}
