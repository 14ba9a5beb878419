/* SPDX-License-Identifier: BSD-2-Clause */
/* Which guest-virtual region a table translates: for the trace, and so off the hot paths. */
#include "hv/paging/internal.h"

/* A link to `t` from a node of the level above `level`, or NULL. A recursive mapping has others. */
static const struct link *link_from_above(const struct cpt *c, const struct table *t,
                                          unsigned level)
{
    for (uint32_t i = t->links; i != CPT_NONE; i = c->link[i].next) {
        const struct node *from = &c->node[c->link[i].node];
        if (from->level == level + 1 && from->table != CPT_NONE)
            return &c->link[i];
    }
    return NULL;
}

struct trace_region region_of(const struct cpt *c, const struct table *t, unsigned level)
{
    struct trace_region region = {.level = level};
    unsigned sign = 64 - (PAGE_SHIFT + 9 * c->settings.levels);
    unsigned at = level;

    while (at < c->settings.levels) {
        const struct link *link = link_from_above(c, t, at);
        if (!link)
            return (struct trace_region){.va = TRACE_NOWHERE};
        at++;
        region.va += link->slot * pt_span(at);
        t = &c->table[c->node[link->node].table];
    }
    region.va = (uint64_t)((int64_t)(region.va << sign) >> sign); /* canonical */
    region.root = t->gfn;
    return region;
}

void trace_table(struct cpt *c, enum trace_kind kind, const struct table *t, unsigned level,
                 uint32_t detail)
{
    if (c->trace->size > 0)
        trace_add_region(c->trace, kind, t->gfn, detail, region_of(c, t, level));
}
