/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See frames.h. A request is placed by what it would break: every extent that can hold it is rated
 * by the alignment that a piece of the request's size would destroy there, and the lowest rating
 * wins.
 */
#include "hv/frames.h"

#include <string.h>

#include "hv/arch.h"

void frames_init(struct frames *frames, frames_reach *reach)
{
    frames->lock = LOCK_FREE;
    frames->reach = reach;
    frames->extent_count = 0;
    frames->spilled = HPA_NONE;
    frames->free_bytes = 0;
    frames->least_free = 0;
}

void frames_mark(struct frames *frames)
{
    lock_take(&frames->lock);
    frames->least_free = frames->free_bytes;
    lock_release(&frames->lock);
}

/* Index of the first extent that ends after `base`. */
static size_t find(const struct frames *frames, uint64_t base)
{
    size_t low = 0, high = frames->extent_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct frames_extent *e = &frames->extent[middle];
        if (e->base + e->size <= base)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool insert(struct frames *frames, size_t index, uint64_t base, uint64_t size)
{
    if (frames->extent_count == FRAMES_EXTENTS_MAX)
        return false;
    memmove(&frames->extent[index + 1], &frames->extent[index],
            (frames->extent_count - index) * sizeof(frames->extent[0]));
    frames->extent[index] = (struct frames_extent){base, size};
    frames->extent_count++;
    return true;
}

static void remove(struct frames *frames, size_t index)
{
    frames->extent_count--;
    memmove(&frames->extent[index], &frames->extent[index + 1],
            (frames->extent_count - index) * sizeof(frames->extent[0]));
}

enum given { GIVEN, OVERLAPS /* what is free already */, NO_ROOM /* in the table */ };

/* Into the table; free_bytes is the caller's. */
static enum given give(struct frames *frames, uint64_t base, uint64_t size)
{
    size_t next = find(frames, base);

    if (next < frames->extent_count && frames->extent[next].base < base + size)
        return OVERLAPS;

    bool joins_next = next < frames->extent_count && frames->extent[next].base == base + size;
    bool joins_last =
        next > 0 && frames->extent[next - 1].base + frames->extent[next - 1].size == base;

    if (joins_last && joins_next) {
        frames->extent[next - 1].size += size + frames->extent[next].size;
        remove(frames, next);
    } else if (joins_last) {
        frames->extent[next - 1].size += size;
    } else if (joins_next) {
        frames->extent[next].base = base;
        frames->extent[next].size += size;
    } else if (!insert(frames, next, base, size)) {
        return NO_ROOM;
    }
    return GIVEN;
}

/* --- runs that the table has no room for ------------------------------------------------------ */

/* At the start of such a run. */
struct spilled {
    hpa_t next;
    uint64_t size;
};

static void spill(struct frames *frames, uint64_t base, uint64_t size)
{
    struct spilled *run = frames->reach(hpa(base));

    *run = (struct spilled){frames->spilled, size};
    frames->spilled = hpa(base);
}

static hpa_t take_spilled_page(struct frames *frames)
{
    struct spilled *first = frames->reach(frames->spilled);
    hpa_t page = hpa_add(frames->spilled, first->size - PAGE_SIZE);

    first->size -= PAGE_SIZE;
    if (first->size == 0)
        frames->spilled = first->next;
    return page;
}

/* Into the table with them while it has room. False when one of them is free already. */
static bool take_in_spilled(struct frames *frames)
{
    enum given given = GIVEN;

    while (given == GIVEN && !hpa_is_none(frames->spilled) &&
           frames->extent_count < FRAMES_EXTENTS_MAX) {
        struct spilled first = *(struct spilled *)frames->reach(frames->spilled);
        given = give(frames, frames->spilled.v, first.size);
        frames->spilled = first.next;
    }
    return given == GIVEN;
}

/* --- giving and taking ------------------------------------------------------------------------ */

bool frames_add(struct frames *frames, hpa_t base, uint64_t size)
{
    uint64_t start = max_u64(align_up(base.v, PAGE_SIZE), PAGE_SIZE);
    uint64_t end = align_down(base.v + size, PAGE_SIZE);

    if (end <= start)
        return true;
    lock_take(&frames->lock);
    bool given = give(frames, start, end - start) == GIVEN;
    if (given)
        frames->free_bytes += end - start;
    lock_release(&frames->lock);
    return given;
}

/* Whether [base, base + size) touches a whole free block of `block` bytes, aligned to itself, of
 * `e`. */
static bool breaks_block(const struct frames_extent *e, uint64_t base, uint64_t size,
                         uint64_t block)
{
    uint64_t first_block = align_up(e->base, block);
    uint64_t end_blocks = align_down(e->base + e->size, block);

    return first_block < end_blocks && base < end_blocks && base + size > first_block;
}

/* What taking [base, base + size) from `e` costs: lower is better. */
static unsigned cost(const struct frames_extent *e, uint64_t base, uint64_t size)
{
    if (breaks_block(e, base, size, PAGE_SIZE_1G))
        return 2;
    return breaks_block(e, base, size, PAGE_SIZE_2M) ? 1 : 0;
}

struct place {
    bool found;
    size_t index;
    uint64_t base;
    unsigned cost;
};

/* Keep `base` in extent `index` if it is allowed and better than *best. */
static void consider(const struct frames *frames, size_t index, uint64_t base, uint64_t size,
                     struct place *best)
{
    const struct frames_extent *e = &frames->extent[index];

    if (base < e->base || base - e->base > e->size || e->size - (base - e->base) < size)
        return;
    unsigned rating = cost(e, base, size);
    if (!best->found || rating < best->cost)
        *best = (struct place){true, index, base, rating};
}

static struct place find_place(const struct frames *frames, uint64_t size, uint64_t align)
{
    struct place best = {.found = false};

    for (size_t i = 0; i < frames->extent_count; i++) {
        const struct frames_extent *e = &frames->extent[i];
        if (e->size < size)
            continue;
        /* Either end of an extent: its middle only ever breaks more. */
        consider(frames, i, align_up(e->base, align), size, &best);
        consider(frames, i, align_down(e->base + e->size - size, align), size, &best);
    }
    return best;
}

/* False when the extent would have to be cut in two, and the table is full. */
static bool cut(struct frames *frames, const struct place *place, uint64_t size)
{
    struct frames_extent *e = &frames->extent[place->index];
    uint64_t before = place->base - e->base;
    uint64_t after = e->size - before - size;

    if (before > 0 && after > 0) {
        if (!insert(frames, place->index + 1, place->base + size, after))
            return false;
        e->size = before;
    } else if (before > 0) {
        e->size = before;
    } else if (after > 0) {
        e->base += size;
        e->size = after;
    } else {
        remove(frames, place->index);
    }
    return true;
}

static hpa_t take(struct frames *frames, uint64_t size, uint64_t align)
{
    if (size == PAGE_SIZE && align == PAGE_SIZE && !hpa_is_none(frames->spilled))
        return take_spilled_page(frames);
    struct place place = find_place(frames, size, align);
    return place.found && cut(frames, &place, size) ? hpa(place.base) : HPA_NONE;
}

hpa_t frames_alloc(struct frames *frames, uint64_t size, uint64_t align)
{
    size = align_up(size, PAGE_SIZE);
    if (size == 0)
        return HPA_NONE;
    lock_take(&frames->lock);
    hpa_t run = take(frames, size, align);
    if (!hpa_is_none(run)) {
        frames->free_bytes -= size;
        frames->least_free = min_u64(frames->least_free, frames->free_bytes);
    }
    bool sound = take_in_spilled(frames);
    lock_release(&frames->lock);
    if (!sound)
        panic("frames: a run was freed twice");
    return run;
}

void frames_free(struct frames *frames, hpa_t base, uint64_t size)
{
    size = align_up(size, PAGE_SIZE);
    lock_take(&frames->lock);
    enum given given = give(frames, base.v, size);
    if (given == NO_ROOM)
        spill(frames, base.v, size);
    frames->free_bytes += size;
    bool sound = given != OVERLAPS && take_in_spilled(frames);
    lock_release(&frames->lock);
    if (!sound)
        panic("frames: [0x%llx, +0x%llx) freed twice", (unsigned long long)base.v,
              (unsigned long long)size);
}

uint64_t frames_largest(struct frames *frames, uint64_t align)
{
    uint64_t largest = 0;

    lock_take(&frames->lock);
    for (size_t i = 0; i < frames->extent_count; i++) {
        const struct frames_extent *e = &frames->extent[i];
        uint64_t start = align_up(e->base, align);
        if (start < e->base + e->size)
            largest = max_u64(largest, e->base + e->size - start);
    }
    lock_release(&frames->lock);
    return largest;
}
