/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frame allocator: host-physical memory in 4-KiB frames, made for big aligned runs.
 *
 * A VM's RAM wants to be one run, aligned to 1 GiB or 2 MiB, so that EPT can map it with its
 * largest pages. So a run is cut from where the least alignment is lost: small runs come from the
 * most fragmented places, and never break a free 1-GiB- or 2-MiB-aligned block while another place
 * has room.
 *
 * Bookkeeping is kept outside the frames, in a table of fixed size, with one exception: a run that
 * is freed when the table is full is kept in a list that goes through the runs themselves, until
 * there is room. So giving back never fails, however memory has been cut up by then: guests have a
 * hand in that. Any processor may call it at any time: it has a lock of its own, in which nothing
 * else is taken.
 */
#ifndef HV_FRAMES_H
#define HV_FRAMES_H

#include "hv/lock.h"
#include "hv/types.h"

#define FRAMES_EXTENTS_MAX 1024

/* Where a frame's bytes can be reached. */
typedef void *frames_reach(hpa_t at);

/* Free extents, sorted by base, never touching each other. All in bytes, page aligned. The lock is
 * for all of it; a look at free_bytes alone needs none. */
struct frames {
    struct lock lock;
    frames_reach *reach;
    struct frames_extent {
        uint64_t base;
        uint64_t size;
    } extent[FRAMES_EXTENTS_MAX];
    size_t extent_count;
    hpa_t spilled;       /* the first of the runs that the table had no room for; HPA_NONE: none */
    uint64_t free_bytes; /* with the spilled runs */
    uint64_t least_free; /* the lowest that free_bytes has been since frames_mark */
};

#define HPA_NONE ((hpa_t){~0ull})

static inline bool hpa_is_none(hpa_t a)
{
    return a.v == ~0ull;
}

/* No memory yet. `reach` is for spilled runs. */
void frames_init(struct frames *frames, frames_reach *reach);

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

/* Give a run back, wholly or in part. Freeing what is free already panics, at once or, for a run
 * that was spilled, when the table takes it in. Where the table is full the run's first bytes are
 * written to; such runs serve requests for single pages meanwhile. */
void frames_free(struct frames *frames, hpa_t base, uint64_t size);

/* Begin to note the least that is free. */
void frames_mark(struct frames *frames);

/* Bytes of the largest free run that starts at a multiple of `align`. */
uint64_t frames_largest(struct frames *frames, uint64_t align);

#endif
