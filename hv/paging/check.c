/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The invariants of a compound table, each with the sentence that a broken one gives. Slow: for
 * tests and debugging. The table must be settled, and no processor may write the guest's tables
 * meanwhile.
 */
#include "hv/paging/internal.h"

#define GRANTS (PTE_W | PTE_U)

/* What an entry may grant, given the guest's. */
static const char *check_rights(uint64_t entry, uint64_t e)
{
    if (!(e & PTE_P))
        return "an entry is present where the guest's is not";
    if (entry & ~e & GRANTS)
        return "an entry grants what the guest's does not";
    if ((e & PTE_NX) && !(entry & PTE_NX))
        return "an entry lets execute what the guest's does not";
    return NULL;
}

static const char *check_leaf(const struct cpt *c, uint32_t n, uint64_t entry, uint64_t e)
{
    unsigned level = c->node[n].level;
    uint64_t span = pt_span(level);
    uint64_t base = entry & PTE_ADDRESS & ~(span - 1);
    uint64_t guest = e & PTE_ADDRESS & ~(span - 1);

    if (!pt_is_leaf(e, level, c->settings.max_leaf) || entry_is_reserved(c, e, level))
        return "a leaf stands for what is none";
    if (!(e & PTE_A))
        return "a leaf that the guest's A bit does not know of";
    if (!(entry & PTE_A) || !(entry & PTE_D))
        return "the walker would write A or D to a node";
    if (node_format(c, n) == CPT_FORMAT_COMPOUND) {
        if (base == c->hole)
            return guest + span > c->node_window ? NULL : "RAM hidden behind the hole";
        if (entry_kind(entry) == ENTRY_CLEAN)
            return base == (guest | c->alias_bit) ? NULL : "a clean leaf leads elsewhere";
        if (!(e & PTE_D))
            return "a dirty leaf that the guest's D bit does not know of";
        return base == guest ? NULL : "a leaf leads elsewhere";
    }
    uint64_t frame = frame_of(c, guest >> PAGE_SHIFT);
    if (frame == CPT_FREE_GFN || base != c->ram.base.v + (frame << PAGE_SHIFT))
        return "a leaf of SHADOW leads elsewhere";
    if ((entry & PTE_W) && !(e & PTE_D))
        return "a writable leaf of SHADOW that the guest's D bit does not know of";
    return NULL;
}

/* A leaf of SHADOW, of a guest table or a part of one of its large leaves. */
static const char *check_shadow_leaf(const struct cpt *c, uint32_t n, uint64_t entry)
{
    uint64_t span = pt_span(c->node[n].level);
    uint64_t base = entry & PTE_ADDRESS & ~(span - 1);
    uint64_t first = (base - c->ram.base.v) >> PAGE_SHIFT;

    if (base < c->ram.base.v || first + (span >> PAGE_SHIFT) > c->frames)
        return "a leaf of SHADOW leads outside the VM's RAM";
    for (uint64_t frame = first; frame < first + (span >> PAGE_SHIFT); frame++) {
        if ((entry & PTE_W) && frame_protected(c, frame))
            return "SHADOW lets the guest write a table";
    }
    return NULL;
}

static uint32_t count_links(const struct cpt *c, const struct table *t, uint32_t n, unsigned slot)
{
    uint32_t count = 0;

    for (uint32_t i = t->links; i != CPT_NONE; i = c->link[i].next)
        count += c->link[i].node == n && c->link[i].slot == slot;
    return count;
}

/* Before anything follows the entry. */
static bool leads_somewhere(const struct cpt *c, uint32_t n, uint64_t entry)
{
    enum cpt_format format = node_format(c, n);
    uint64_t address = entry & PTE_ADDRESS;
    uint64_t first = format == CPT_FORMAT_COMPOUND ? c->node_window + c->memory.node_offset
                                                   : c->memory.node_base[format].v;

    switch (entry_kind(entry)) {
    case ENTRY_NODE:
    case ENTRY_SPLIT:
        if (address < first || address - first >= (uint64_t)c->memory.node_count[format]
                                                      << PAGE_SHIFT)
            return false;
        const struct node *child = &c->node[node_at(c, format, address)];
        return child->used && (child->table == CPT_NONE) == (entry_kind(entry) == ENTRY_SPLIT);
    case ENTRY_SWITCH:
        return format == CPT_FORMAT_COMPOUND ||
               (address & ~c->high_trap) >> PAGE_SHIFT < c->table_count;
    default:
        return true;
    }
}

static const char *check_table_entry(const struct cpt *c, uint32_t n, unsigned slot, uint64_t entry,
                                     uint64_t e)
{
    const struct table *t = entry_table(c, n, entry);
    bool is_switch = entry_kind(entry) == ENTRY_SWITCH;

    if (!t)
        return "a switch entry leads to no known table";
    if (pt_is_leaf(e, c->node[n].level, c->settings.max_leaf) || !(e & PTE_A))
        return "a table entry stands for what is none, or was not used";
    if (t->gfn != (e & PTE_ADDRESS) >> PAGE_SHIFT)
        return "a table entry leads to another table than the guest's";
    if (is_switch != !table_has_nodes_in(t, node_format(c, n)))
        return "an entry leads past its table's handling";
    if (count_links(c, t, n, slot) != 1)
        return "an entry without its link";
    if (is_switch)
        return NULL;
    uint32_t child = node_at(c, node_format(c, n), entry & PTE_ADDRESS);
    if (!c->node[child].used || c->node[child].level != c->node[n].level - 1)
        return "an entry leads to a node that is not there";
    return NULL;
}

static const char *check_entry(const struct cpt *c, uint32_t n, unsigned slot)
{
    uint64_t entry = node_page(c, n)[slot];
    const struct node *node = &c->node[n];
    enum entry_kind kind = entry_kind(entry);
    bool is_leaf = kind == ENTRY_CLEAN || kind == ENTRY_DIRTY;
    const char *wrong = NULL;

    if (!leads_somewhere(c, n, entry))
        return "an entry leads to nothing that is there";
    if (is_leaf && node_format(c, n) == CPT_FORMAT_SHADOW)
        wrong = check_shadow_leaf(c, n, entry);
    if (wrong || node->table == CPT_NONE)
        return wrong;
    if (c->table[node->table].handling == HANDLING_UNSYNC)
        return kind == ENTRY_EMPTY ? "an entry is empty that is out of sync" : NULL;
    uint64_t e = load_entry(guest_table(c, c->table[node->table].gfn) + slot);
    if (kind == ENTRY_EMPTY)
        return !entry && !(e & PTE_P) ? NULL : "an entry is empty that should not be";
    bool shadow_trap =
        node_format(c, n) == CPT_FORMAT_SHADOW && (kind == ENTRY_TRAP || kind == ENTRY_SWITCH);
    if (!shadow_trap)
        wrong = check_rights(entry, e);
    if (wrong)
        return wrong;
    if (is_leaf)
        return check_leaf(c, n, entry, e);
    if (kind == ENTRY_NODE || kind == ENTRY_SWITCH)
        return check_table_entry(c, n, slot, entry, e);
    if (kind == ENTRY_FAULT && !entry_is_reserved(c, e, node->level))
        return "a fault that the guest's entry does not have";
    if (kind == ENTRY_SPLIT && (entry & PTE_W) && !(e & PTE_D))
        return "a split leaf is writable without D";
    return NULL;
}

/* References to every node, counted anew: nobody may trust the counter. */
static uint32_t count_refs(const struct cpt *c, uint32_t n)
{
    const struct node *node = &c->node[n];
    uint32_t refs = 0;

    if (node->table == CPT_NONE)
        return entry_kind(node_page(c, node->next)[node->parent_slot]) == ENTRY_SPLIT;
    const struct table *t = &c->table[node->table];
    for (uint32_t i = t->links; i != CPT_NONE; i = c->link[i].next)
        refs += c->node[c->link[i].node].level == node->level + 1 &&
                node_format(c, c->link[i].node) == node_format(c, n) &&
                entry_kind(node_page(c, c->link[i].node)[c->link[i].slot]) == ENTRY_NODE;
    for (uint32_t i = 0; i < CPT_ROOTS; i++)
        refs += c->root[i].gfn != CPT_FREE_GFN && c->root[i].node[node_format(c, n)] == n;
    return refs;
}

static const char *check_node(const struct cpt *c, uint32_t n)
{
    const struct node *node = &c->node[n];

    if (count_refs(c, n) != node->refs)
        return "a node's references do not add up";
    if (node->refs == 0)
        return "a node that nothing leads to";
    for (unsigned slot = 0; slot < PT_ENTRIES; slot++) {
        const char *wrong = check_entry(c, n, slot);
        if (wrong)
            return wrong;
    }
    return NULL;
}

static const char *check_table(const struct cpt *c, const struct table *t)
{
    uint64_t frame = frame_of(c, t->gfn);

    if (frame == CPT_FREE_GFN)
        return "a table outside RAM";
    if (t->handling == HANDLING_NESTED && t->nodes != CPT_NONE)
        return "a nested-handled table with nodes";
    if (t->handling == HANDLING_UNSYNC && !table_can_unsync(c, t))
        return "a table is out of sync that may not be";
    if (frame_protected(c, frame) != (t->nodes != CPT_NONE && t->handling == HANDLING_SHADOW))
        return "a table's protection does not follow its handling";
    if (t->nodes == CPT_NONE && t->links == CPT_NONE)
        return "a table that nobody needs";
    return NULL;
}

static const char *check_ring(const struct cpt *c)
{
    uint32_t in_ring = 0;

    for (uint32_t i = c->next_nested; i != CPT_NONE && in_ring <= c->table_count;) {
        if (c->table[i].handling != HANDLING_NESTED)
            return "a table in the ring of the nested-handled that is not";
        in_ring++;
        i = c->table[i].nested_next == c->next_nested ? CPT_NONE : c->table[i].nested_next;
    }
    return in_ring == c->used_tables[HANDLING_NESTED]
               ? NULL
               : "the ring of nested-handled tables is not whole";
}

/* Links and tables are in use or free; each list is counted no further than it can be long. */
static const char *check_free(const struct cpt *c)
{
    uint32_t links = 0, tables = 0;

    for (uint32_t i = 0; i < c->table_count; i++) {
        const struct table *t = &c->table[i];
        if (t->handling == HANDLING_FREE)
            continue;
        tables++;
        for (uint32_t l = t->links; l != CPT_NONE && links <= c->link_count; l = c->link[l].next)
            links++;
    }
    for (uint32_t l = c->free_link; l != CPT_NONE && links <= c->link_count; l = c->link[l].next)
        links++;
    for (uint32_t i = c->free_table; i != CPT_NONE && tables <= c->table_count;
         i = c->table[i].hash_next)
        tables++;
    if (links != c->link_count)
        return "links are lost";
    return tables == c->table_count ? NULL : "tables are lost";
}

const char *cpt_check(const struct cpt *c)
{
    uint32_t used[CPT_FORMATS] = {0};
    const char *wrong = NULL;

    if (c->owes_invalidation || c->limbo != CPT_NONE)
        return "an invalidation is owed";
    for (uint32_t n = 0; n < c->nodes_total && !wrong; n++) {
        if (!c->node[n].used)
            continue;
        used[node_format(c, n)]++;
        wrong = check_node(c, n);
    }
    for (uint32_t i = 0; i < c->table_count && !wrong; i++) {
        if (c->table[i].handling != HANDLING_FREE)
            wrong = check_table(c, &c->table[i]);
    }
    if (!wrong)
        wrong = check_ring(c);
    if (!wrong)
        wrong = check_free(c);
    for (unsigned f = 0; f < CPT_FORMATS && !wrong; f++) {
        if (used[f] != c->used_nodes[f])
            wrong = "the number of nodes is wrong";
    }
    return wrong;
}

uint32_t cpt_lost_nodes(const struct cpt *c)
{
    uint32_t known = c->used_nodes[CPT_FORMAT_COMPOUND] + c->used_nodes[CPT_FORMAT_SHADOW];
    uint32_t lists[] = {c->free_node[CPT_FORMAT_COMPOUND], c->free_node[CPT_FORMAT_SHADOW],
                        c->limbo};

    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (uint32_t n = lists[i]; n != CPT_NONE && known <= c->nodes_total; n = c->node[n].next)
            known++;
    }
    return known <= c->nodes_total ? c->nodes_total - known : known - c->nodes_total;
}
