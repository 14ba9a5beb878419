/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frame allocator: host-physical memory in 4-KiB frames, made for big aligned runs.
 *
 * A VM's RAM wants to be one run, aligned to 1 GiB or 2 MiB, so that EPT can map it with its
 * largest pages. So a run is cut from where the least alignment is lost: small runs come from the
 * most fragmented places, and never break a free 1-GiB- or 2-MiB-aligned block while another place
 * has room.
 *
 * Bookkeeping is kept outside the frames, so the allocator runs on the host as it does in the
 * hypervisor. Any processor may call it at any time: it has a lock of its own, in which nothing
 * else is taken.
 */
#ifndef HV_FRAMES_H
#define HV_FRAMES_H

#include "hv/lock.h"
#include "hv/types.h"

#define FRAMES_EXTENTS_MAX 1024

/* Free extents, sorted by base, never touching each other. All in bytes, page aligned. The lock is
 * for all of it; a look at free_bytes alone needs none. */
struct frames {
    struct lock lock;
    struct frames_extent {
        uint64_t base;
        uint64_t size;
    } extent[FRAMES_EXTENTS_MAX];
    size_t extent_count;
    uint64_t free_bytes;
};

#define HPA_NONE ((hpa_t){~0ull})

static inline bool hpa_is_none(hpa_t a)
{
    return a.v == ~0ull;
}

void frames_init(struct frames *frames);

/*
 * Give [base, base + size) to the allocator. Partial pages at the ends are left out, and so is page
 * 0. False when the range overlaps free memory (our own mistake) or the extent table is full (the
 * memory is then not used: nothing else changes).
 */
bool frames_add(struct frames *frames, hpa_t base, uint64_t size);

/*
 * A free run of `size` bytes (rounded up to pages), aligned to `align` (a power of two, at least a
 * page). HPA_NONE when there is none. The content is undefined.
 */
hpa_t frames_alloc(struct frames *frames, uint64_t size, uint64_t align);

/* Give a run back, wholly or in part. Freeing what is free already panics. */
void frames_free(struct frames *frames, hpa_t base, uint64_t size);

/* Bytes of the largest free run that starts at a multiple of `align`. */
uint64_t frames_largest(struct frames *frames, uint64_t align);

#endif
