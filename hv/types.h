/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Addresses and page sizes.
 *
 * Each kind of address is a type of its own, so that a guest-physical address cannot be passed
 * where a host-physical one is meant. Arithmetic goes through the helpers below.
 */
#ifndef HV_TYPES_H
#define HV_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t v;
} gva_t; /* guest-virtual (linear) address */

typedef struct {
    uint64_t v;
} gpa_t; /* guest-physical address: what EPT translates from */

typedef struct {
    uint64_t v;
} hpa_t; /* host-physical address: what EPT translates to */

#define PAGE_SHIFT    12u
#define PAGE_SIZE     (1ull << PAGE_SHIFT)
#define PAGE_SHIFT_2M 21u
#define PAGE_SIZE_2M  (1ull << PAGE_SHIFT_2M)
#define PAGE_SHIFT_1G 30u
#define PAGE_SIZE_1G  (1ull << PAGE_SHIFT_1G)

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline gva_t gva(uint64_t v)
{
    return (gva_t){v};
}

static inline gpa_t gpa(uint64_t v)
{
    return (gpa_t){v};
}

static inline hpa_t hpa(uint64_t v)
{
    return (hpa_t){v};
}

static inline gva_t gva_add(gva_t a, uint64_t bytes)
{
    return (gva_t){a.v + bytes};
}

static inline gpa_t gpa_add(gpa_t a, uint64_t bytes)
{
    return (gpa_t){a.v + bytes};
}

static inline hpa_t hpa_add(hpa_t a, uint64_t bytes)
{
    return (hpa_t){a.v + bytes};
}

/* `align` is a power of two. */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

/* Wraps to 0 when v is within `align` of 2^64: check the range first. */
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) & ~(align - 1);
}

static inline bool is_aligned(uint64_t v, uint64_t align)
{
    return (v & (align - 1)) == 0;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
