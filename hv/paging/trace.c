/* SPDX-License-Identifier: BSD-2-Clause */
/* See trace.h. */
#include "hv/paging/trace.h"

const char *trace_kind_name(enum trace_kind kind)
{
    static const char *const names[TRACE_KINDS] = {
        [TRACE_PROMOTE] = "promote", [TRACE_DEMOTE] = "demote", [TRACE_EVICT] = "evict",
        [TRACE_ROOT] = "root",       [TRACE_SYNC] = "sync",     [TRACE_WRITE] = "write",
        [TRACE_FILL] = "fill",       [TRACE_UNSYNC] = "unsync", [TRACE_RESYNC] = "resync",
    };

    return kind < TRACE_KINDS ? names[kind] : "?";
}

void trace_create(struct trace *t, void *memory, uint32_t size)
{
    struct trace_event *event = memory;

    *t = (struct trace){.size = size};
    for (unsigned i = 0; i < TRACE_RINGS; i++)
        t->ring[i].event = event + i * size;
    t->region = (struct trace_region *)(void *)(event + TRACE_RINGS * size);
}

/* The event that the cursor is at in one ring, or NULL. */
static const struct trace_event *event_at(const struct trace *t, struct trace_cursor *cursor,
                                          enum trace_ring_name which)
{
    const struct trace_ring *ring = &t->ring[which];

    if (ring->count > t->size && cursor->next[which] < ring->count - t->size)
        cursor->next[which] = ring->count - t->size;
    return cursor->next[which] < ring->count ? &ring->event[cursor->next[which] & (t->size - 1)]
                                             : NULL;
}

const struct trace_event *trace_next(const struct trace *t, struct trace_cursor *cursor,
                                     struct trace_region *region)
{
    const struct trace_event *frequent = event_at(t, cursor, TRACE_FREQUENT);
    const struct trace_event *handling = event_at(t, cursor, TRACE_HANDLING);
    struct trace_region unknown = {.va = TRACE_NOWHERE};

    if (frequent && (!handling || frequent->time <= handling->time)) {
        if (region)
            *region = unknown;
        cursor->next[TRACE_FREQUENT]++;
        return frequent;
    }
    if (handling) {
        if (region)
            *region = t->region[cursor->next[TRACE_HANDLING] & (t->size - 1)];
        cursor->next[TRACE_HANDLING]++;
    }
    return handling;
}
