/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The events that change how memory is translated, in two rings of the same size: what changes the
 * handling of a table or a root, and what happens much more often, so that the second cannot push
 * the first out. The oldest of a ring go when it is full.
 */
#ifndef HV_PAGING_TRACE_H
#define HV_PAGING_TRACE_H

#include "hv/types.h"

enum trace_kind {
    TRACE_PROMOTE, /* value: gfn of the table; detail: its level */
    TRACE_DEMOTE,  /* the same */
    TRACE_EVICT,   /* the same */
    TRACE_ROOT,    /* value: gfn of the root; detail: its new state */
    TRACE_SYNC,    /* value: gfn of the table; detail: the entry's index, bits 15:12 the level */
    TRACE_WRITE,   /* value: guest-physical address of a trapped store */
    TRACE_FILL,    /* value: gfn of the table; detail: level, bit 4: format */
    TRACE_UNSYNC,  /* value: gfn of the table, which goes out of sync; detail: its level */
    TRACE_RESYNC,  /* the same, as it comes back */
    TRACE_KINDS
};

/* What a table translates, as the first chain of links up to a root has it. */
struct trace_region {
    uint64_t va;   /* guest-virtual base; TRACE_NOWHERE: not known */
    uint64_t root; /* gfn */
    uint32_t level;
};

#define TRACE_NOWHERE ~0ull

struct trace_event {
    uint64_t time; /* ticks */
    uint64_t value;
    uint32_t kind;
    uint32_t detail;
};

enum trace_ring_name { TRACE_HANDLING, TRACE_FREQUENT, TRACE_RINGS };

struct trace_ring {
    struct trace_event *event;
    uint64_t count; /* of all its events so far */
};

struct trace {
    struct trace_ring ring[TRACE_RINGS];
    struct trace_region *region; /* of the events of TRACE_HANDLING */
    uint32_t size;               /* events a ring, a power of two; 0: nothing is kept */
    uint64_t time;               /* of the exit that is handled: the caller sets it */
};

static inline void trace_keep(struct trace *t, struct trace_ring *ring, enum trace_kind kind,
                              uint64_t value, uint32_t detail)
{
    ring->event[ring->count++ & (t->size - 1)] =
        (struct trace_event){.time = t->time, .value = value, .kind = kind, .detail = detail};
}

/* TRACE_SYNC or TRACE_WRITE. */
static inline void trace_add(struct trace *t, enum trace_kind kind, uint64_t value, uint32_t detail)
{
    if (t->size > 0)
        trace_keep(t, &t->ring[TRACE_FREQUENT], kind, value, detail);
}

/* Any other kind; `size` must not be 0. Returns the event's region, for the caller to fill. */
static inline struct trace_region *trace_add_handling(struct trace *t, enum trace_kind kind,
                                                      uint64_t value, uint32_t detail)
{
    struct trace_ring *ring = &t->ring[TRACE_HANDLING];
    struct trace_region *region = &t->region[ring->count & (t->size - 1)];

    trace_keep(t, ring, kind, value, detail);
    return region;
}

/* The bytes of both rings and the regions, and what lays them out in `memory`, which has as many.
 */
static inline size_t trace_bytes(uint32_t size)
{
    return size * (TRACE_RINGS * sizeof(struct trace_event) + sizeof(struct trace_region));
}

void trace_create(struct trace *t, void *memory, uint32_t size);

/* Where somebody who reads the events has got to; all 0: at the oldest. */
struct trace_cursor {
    uint64_t next[TRACE_RINGS];
};

/*
 * The next event that is still kept, by time; NULL: no more so far. Of one time, stores and syncs
 * come before what they led to. Events that were pushed out meanwhile are passed over. `region`:
 * where it is not NULL, the event's, with TRACE_NOWHERE where there is none.
 */
const struct trace_event *trace_next(const struct trace *t, struct trace_cursor *cursor,
                                     struct trace_region *region);

const char *trace_kind_name(enum trace_kind kind);

#endif
