/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leaf tables out of sync: SHADOW goes on walking their nodes while the guest writes them freely.
 *
 * Such a node is like a processor's cache of the table (SDM 3A 4.10): what it holds may be older
 * than what the guest has written, for as long as the guest could not rely on the newer. So
 *
 *   INVLPG brings the one entry into line, and so does a page fault
 *   whatever makes a processor forget all (MOV to CR3 and the like), and a processor that begins to
 *   walk by SHADOW, which may have invalidated unseen, brings back all tables
 *   what is not present is never cached: traps stand there, which the hypervisor looks at
 *
 * It spares the exits of stores in a batch, and costs those of invalidations.
 */
#include "hv/paging/internal.h"

bool table_can_unsync(const struct cpt *c, const struct table *t)
{
    bool any = false;

    for (uint32_t n = t->nodes; n != CPT_NONE; n = c->node[n].next) {
        if (c->node[n].level != 1)
            return false;
        any |= node_format(c, n) == CPT_FORMAT_SHADOW;
    }
    return any;
}

void unsync_list_remove(struct cpt *c, struct table *t)
{
    uint32_t *at = &c->unsync_tables;

    while (*at != table_index(c, t))
        at = &c->table[*at].unsync_next;
    *at = t->unsync_next;
    c->head.unsync--;
}

void table_unsync(struct cpt *c, struct table *t)
{
    c->used_tables[HANDLING_SHADOW]--;
    c->used_tables[HANDLING_UNSYNC]++;
    t->handling = HANDLING_UNSYNC;
    t->was_unsync = 1;
    t->unsync_next = c->unsync_tables;
    c->unsync_tables = table_index(c, t);
    c->head.unsync++;
    c->head.generation++; /* no CR3 load may go unseen */
    c->head.changes++;
    c->stats.unsyncs++;
    trace_table(c, TRACE_UNSYNC, t, t->level, t->level);
    for (uint32_t i = t->links; i != CPT_NONE; i = c->link[i].next) {
        if (node_format(c, c->link[i].node) == CPT_FORMAT_COMPOUND)
            entry_relink(c, c->link[i].node, c->link[i].slot, t);
    }
    table_free_nodes_in(c, t, CPT_FORMAT_COMPOUND);
    for (uint32_t n = t->nodes; n != CPT_NONE; n = c->node[n].next)
        node_trap_empty(c, n);
    table_unprotect(c, t);
}

/* --- coming back ------------------------------------------------------------------------------ */

/* In COMPOUND a node is made when a root gets there. */
static void trap_switch_entries(struct cpt *c, const struct table *t)
{
    for (uint32_t i = t->links, next; i != CPT_NONE; i = next) {
        const struct link *link = &c->link[i];
        next = link->next;
        if (node_format(c, link->node) == CPT_FORMAT_COMPOUND)
            entry_trap(c, link->node, link->slot);
    }
}

/* Its content stands still and is invalidated: the nodes follow. */
static void bring_into_line(struct cpt *c, struct table *t)
{
    const uint64_t *guest = guest_table(c, t->gfn);

    unsync_list_remove(c, t);
    c->used_tables[HANDLING_UNSYNC]--;
    c->used_tables[HANDLING_SHADOW]++;
    t->handling = HANDLING_SHADOW;
    for (uint32_t n = t->nodes; n != CPT_NONE; n = c->node[n].next)
        node_resync(c, n, guest);
    trap_switch_entries(c, t);
    c->head.changes++;
    c->stats.resyncs++;
    trace_table(c, TRACE_RESYNC, t, t->level, t->level);
}

static bool stop_writes(struct cpt *c, const struct table *t)
{
    return !RULE(RESYNC_PROTECTS) || table_protect(c, t);
}

void table_resync(struct cpt *c, struct table *t)
{
    if (!stop_writes(c, t)) {
        table_demote(c, t, TRACE_EVICT);
        return;
    }
    settle(c);
    bring_into_line(c, t);
}

void resync_all(struct cpt *c)
{
    for (uint32_t i = c->unsync_tables, next; i != CPT_NONE; i = next) {
        next = c->table[i].unsync_next;
        if (!stop_writes(c, &c->table[i]))
            table_demote(c, &c->table[i], TRACE_EVICT);
    }
    settle(c); /* one invalidation for all */
    while (c->unsync_tables != CPT_NONE)
        bring_into_line(c, &c->table[c->unsync_tables]);
}

void resync_idle(struct cpt *c)
{
    for (uint32_t i = c->unsync_tables, next; i != CPT_NONE; i = next) {
        struct table *t = &c->table[i];
        next = t->unsync_next;
        if (t->writes_epoch + 1 < c->epoch) {
            t->was_unsync = 0;
            table_resync(c, t);
        }
    }
}

/* --- what the guest tells --------------------------------------------------------------------- */

/* The node and slot in which the walk for `at` ends, if it is of a table out of sync, or CPT_NONE.
 */
static uint32_t unsync_end(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at, unsigned *slot)
{
    uint32_t root = cpu->root == CPT_NONE ? CPT_NONE : c->root[cpu->root].node[CPT_FORMAT_SHADOW];

    if (root == CPT_NONE)
        return CPT_NONE;
    uint32_t n = shadow_end(c, root, at, slot);
    uint32_t t = c->node[n].table;
    return t != CPT_NONE && c->table[t].handling == HANDLING_UNSYNC ? n : CPT_NONE;
}

/* Entries about `slot` that are traps although the guest has used what they stand for. */
static void prefetch(struct cpt *c, uint32_t n, unsigned slot)
{
    unsigned count = c->settings.policy.prefetch;
    const uint64_t *page = node_page(c, n), *guest = guest_table(c, c->table[c->node[n].table].gfn);

    if (count == 0)
        return;
    unsigned first = slot - slot % count;
    for (unsigned s = first; s < first + count && s < PT_ENTRIES; s++) {
        uint64_t e = load_entry(guest + s);
        if (entry_kind(page[s]) != ENTRY_TRAP || (e & (PTE_P | PTE_A)) != (PTE_P | PTE_A))
            continue;
        entry_sync(c, n, s, true);
        c->stats.prefetched++;
    }
}

void unsync_sync_entry(struct cpt *c, const struct cpt_cpu *cpu, gva_t at, bool around)
{
    unsigned slot;
    uint32_t n = unsync_end(c, cpu, at, &slot);

    if (n == CPT_NONE)
        return;
    entry_sync(c, n, slot, true);
    if (around)
        prefetch(c, n, slot);
}

void cpt_invlpg(struct cpt *c, const struct cpt_cpu *cpu, gva_t at)
{
    unsigned slot;
    uint32_t n = unsync_end(c, cpu, at, &slot);

    c->stats.invlpgs++;
    if (n == CPT_NONE)
        return;
    if (RULE(INVLPG_SYNCS))
        entry_sync(c, n, slot, true);
    table_count_sync(c, cpu, &c->table[c->node[n].table]);
    settle(c);
}

void cpt_invalidated(struct cpt *c)
{
    resync_all(c);
    settle(c);
}
