/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Handing tables over between shadow and nested handling, and making room.
 *
 * What must be invalidated, and when:
 *
 *   promotion  write permission goes first; then everything cached is invalidated; only then is
 *              the table read (node.c). After that a cached pointer to the guest's own table does
 *              no harm: its content is what the nodes are made of
 *   demotion   cached pointers to the nodes must go before those are used again, and before the
 *              guest goes on: it may write the table now, and the nodes would show an older content
 *   sync       nothing: the entry before was not present, or a trap, or stricter, whose use ends in
 *              a violation that invalidates it (SDM 3C 28.4.3.1). A change that takes rights away
 *              was the guest's own store, and the guest invalidates as on a bare machine
 */
#include "hv/paging/internal.h"

#define BACKOFF_MAX      1024u
#define EVICT_CANDIDATES 128u
/*
 * A policy that keeps the handling makes again what it gave up. Among so many nodes for each
 * processor, given up in turn, there is room for all that one instruction walks: code, operands and
 * what the delivery of an event reads, each of which may cross into another table. With fewer, the
 * nodes of one instruction could take each other's place for ever.
 */
#define EVICT_LEAST 16u

void table_demote(struct cpt *c, struct table *t, enum trace_kind why)
{
    const struct policy_settings *p = &c->settings.policy;

    if (t->handling != HANDLING_SHADOW && t->handling != HANDLING_UNSYNC)
        return;
    struct root *r = root_find(c, t->gfn);
    t->busy++;
    if (r)
        root_set_state(c, r, CPT_NESTED);
    if (t->handling == HANDLING_UNSYNC)
        unsync_list_remove(c, t);
    c->used_tables[t->handling]--;
    c->used_tables[HANDLING_NESTED]++;
    t->handling = HANDLING_NESTED;
    nested_ring_add(c, t);
    if (RULE(DEMOTION_RELINKS)) { /* what leads to the nodes must lead to the table itself */
        for (uint32_t i = t->links; i != CPT_NONE; i = c->link[i].next)
            entry_relink(c, c->link[i].node, c->link[i].slot, t);
    }
    table_free_nodes(c, t);
    c->owes_invalidation = true;
    bool quick = t->promoted && clock_of(c) - t->promoted <= p->quick_return * t->wanted_unchanged;
    if (quick && t->wanted_unchanged < BACKOFF_MAX)
        t->wanted_unchanged *= 2;
    else if (!quick)
        t->wanted_unchanged = p->promote_unchanged;
    look_soon(c);
    t->demoted = clock_of(c);
    t->idle = 0;
    t->unchanged = 0;
    t->changing = 0;
    t->next_look = 0;
    t->content = 0;
    t->writes = 0;
    c->events++;
    c->stats.demotions++;
    c->head.changes++;
    c->stats.evictions += why == TRACE_EVICT;
    trace_table(c, why, t, t->level, t->level);
    t->busy--;
    table_drop_if_unused(c, t);
}

/* An entry that leads to the nested-handled table `t`, while it is promoted: to a node. */
static bool promote_entry(struct cpt *c, struct table *t, const struct link *link)
{
    uint32_t parent = link->node;
    unsigned slot = link->slot;

    if (node_format(c, parent) == CPT_FORMAT_SHADOW) { /* made when a root in SHADOW gets there */
        entry_trap(c, parent, slot);
        return true;
    }
    uint32_t n = node_get(c, t, c->node[parent].level - 1u, node_format(c, parent));

    if (n == CPT_NONE)
        return false;
    /* Making room may have taken the parent with all its entries. */
    if (!c->node[parent].used || entry_kind(node_page(c, parent)[slot]) != ENTRY_SWITCH ||
        entry_table(c, parent, node_page(c, parent)[slot]) != t) {
        c->node[n].refs++;
        node_put(c, n);
        return true;
    }
    c->node[n].refs++;
    entry_relink(c, parent, slot, t);
    return true;
}

bool table_promote(struct cpt *c, struct table *t)
{
    bool complete = true;
    uint64_t begun = c->host.now ? c->host.now(c->host.context) : 0;

    if (t->handling != HANDLING_NESTED)
        return true;
    nested_ring_remove(c, t);
    c->used_tables[HANDLING_NESTED]--;
    c->used_tables[HANDLING_SHADOW]++;
    t->handling = HANDLING_SHADOW;
    t->promoted = clock_of(c);
    t->was_unsync = 0;
    t->busy++;
    for (uint32_t i = t->links; i != CPT_NONE && complete;) {
        const struct link *link = &c->link[i];
        uint32_t next = link->next;
        uint64_t evictions = c->stats.evictions;
        if (entry_kind(node_page(c, link->node)[link->slot]) == ENTRY_SWITCH)
            complete = promote_entry(c, t, link) && t->handling == HANDLING_SHADOW;
        i = c->stats.evictions == evictions ? next : t->links; /* the list may be another now */
    }
    t->busy--;
    c->events++;
    if (complete) {
        c->stats.promotions++;
        c->head.changes++;
        trace_table(c, TRACE_PROMOTE, t, t->level, t->level);
        if (c->host.now) {
            uint64_t took = c->host.now(c->host.context) - begun;
            c->stats.promotion_ticks_max = max_u64(c->stats.promotion_ticks_max, took);
        }
    }
    if (!complete && t->handling == HANDLING_SHADOW)
        table_demote(
            c, t, TRACE_EVICT); /* some lead to nodes, others to the table: back to one handling */
    else
        table_drop_if_unused(c, t);
    return complete;
}

/* --- making room ------------------------------------------------------------------------------ */

/* Only nodes of level 1: nobody who makes a node is on its way through one of those. */
static bool can_give_up(const struct cpt *c, uint32_t n, enum cpt_format format)
{
    const struct node *node = &c->node[n];

    if (!node->used || node_format(c, n) != format || node->level != 1)
        return false;
    if (node->table == CPT_NONE)
        return true;
    const struct table *t = &c->table[node->table];
    if (t->busy)
        return false;
    for (uint32_t i = t->nodes; i != CPT_NONE; i = c->node[i].next) {
        if (c->node[i].level != 1)
            return false;
    }
    return true;
}

void table_zap(struct cpt *c, struct table *t)
{
    t->busy++;
    while (t->links != CPT_NONE)
        entry_trap(c, c->link[t->links].node, c->link[t->links].slot);
    t->busy--;
    table_drop_if_unused(c, t);
}

bool evict(struct cpt *c, enum cpt_format format)
{
    bool keeps = policy_keeps_handling(&c->settings.policy);
    uint32_t least = keeps ? EVICT_LEAST * c->cpus : 1;
    uint32_t most = least > EVICT_CANDIDATES ? least : EVICT_CANDIDATES;
    uint32_t oldest = CPT_NONE, candidates = 0;

    for (uint32_t i = 0; i < c->nodes_total && candidates < most; i++) {
        c->sweep = c->sweep + 1 < c->nodes_total ? c->sweep + 1 : 0;
        if (!can_give_up(c, c->sweep, format))
            continue;
        candidates++;
        if (oldest == CPT_NONE || c->node[c->sweep].epoch < c->node[oldest].epoch)
            oldest = c->sweep;
    }
    if (candidates < least)
        return evict_root(c, format);
    c->sweep = oldest; /* of those as old, the next one is next */
    if (c->node[oldest].table == CPT_NONE) {
        entry_trap(c, c->node[oldest].next, c->node[oldest].parent_slot);
        return true;
    }
    struct table *t = &c->table[c->node[oldest].table];
    if (keeps) {
        c->stats.evictions++;
        table_zap(c, t);
    } else {
        table_demote(c, t, TRACE_EVICT);
    }
    return true;
}
