/* SPDX-License-Identifier: BSD-2-Clause */
/* Which guest-virtual region a table translates: for the trace, and so off the hot paths. */
#include "hv/paging/internal.h"

/* The index of a link to `t` from a node of `level`, or CPT_NONE. A recursive mapping has others.
 */
static inline uint32_t link_from(const struct cpt *c, const struct table *t, unsigned level)
{
    uint32_t i = t->links;

    while (i != CPT_NONE && c->node[c->link[i].node].level != level)
        i = c->link[i].next;
    return i;
}

void region_find(const struct cpt *c, const struct table *t, unsigned level,
                 struct trace_region *region)
{
    unsigned levels = c->settings.levels;
    uint64_t va = 0;

    region->level = level;
    for (unsigned above = level + 1; above <= levels; above++) {
        uint32_t i = link_from(c, t, above);
        if (i == CPT_NONE) {
            region->va = TRACE_NOWHERE;
            return;
        }
        va += c->link[i].slot * pt_span(above);
        t = &c->table[c->node[c->link[i].node].table];
    }
    region->va = canonical(c, va);
    region->root = t->gfn;
}

void trace_table(struct cpt *c, enum trace_kind kind, const struct table *t, unsigned level,
                 uint32_t detail)
{
    if (c->trace->size > 0)
        region_find(c, t, level, trace_add_handling(c->trace, kind, t->gfn, detail));
}
