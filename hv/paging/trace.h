/* SPDX-License-Identifier: BSD-2-Clause */
/* A ring of the events that change how memory is translated: the oldest go when it is full. */
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

struct trace_event {
    uint64_t time; /* ticks */
    uint64_t value;
    uint32_t kind;
    uint32_t detail;
};

struct trace {
    struct trace_event *event;
    uint32_t size;  /* events, a power of two; 0: nothing is kept */
    uint64_t count; /* of all events so far */
    uint64_t time;  /* of the exit that is handled: the caller sets it */
};

static inline void trace_add(struct trace *t, enum trace_kind kind, uint64_t value, uint32_t detail)
{
    if (t->size == 0)
        return;
    t->event[t->count++ & (t->size - 1)] =
        (struct trace_event){.time = t->time, .value = value, .kind = kind, .detail = detail};
}

const char *trace_kind_name(enum trace_kind kind);

#endif
