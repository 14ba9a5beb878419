/* SPDX-License-Identifier: BSD-2-Clause */
/* What people see of a compound table: counts, references a walk, the map of regions. */
#include "hv/paging/internal.h"

#include <stdio.h>

const struct cpt_stats *cpt_stats(const struct cpt *c)
{
    return &c->stats;
}

/* --- counts ----------------------------------------------------------------------------------- */

static uint64_t mapped_by(const struct cpt *c, uint32_t n)
{
    const uint64_t *page = node_page(c, n);
    uint64_t leaves = 0;

    if (c->node[n].level > c->settings.max_leaf)
        return 0;
    for (unsigned slot = 0; slot < PT_ENTRIES; slot++) {
        enum entry_kind kind = entry_kind(page[slot]);
        leaves += kind == ENTRY_CLEAN || kind == ENTRY_DIRTY;
    }
    return leaves * pt_span(c->node[n].level);
}

struct cpt_counts cpt_count(const struct cpt *c)
{
    struct cpt_counts counts = {
        .tables_shadow = c->used_tables[HANDLING_SHADOW],
        .tables_nested = c->used_tables[HANDLING_NESTED],
        .tables_unsync = c->used_tables[HANDLING_UNSYNC],
    };
    uint64_t per_node =
        PAGE_SIZE + sizeof(struct node) + sizeof(struct link) + sizeof(struct table);

    for (unsigned f = 0; f < CPT_FORMATS; f++)
        counts.nodes[f] = c->used_nodes[f];
    counts.node_bytes = (counts.nodes[0] + counts.nodes[1]) * per_node;
    for (uint32_t n = 0; n < c->nodes_total; n++) {
        if (c->node[n].used)
            counts.mapped_bytes += mapped_by(c, n);
    }
    for (uint32_t i = 0; i < CPT_ROOTS; i++) {
        if (c->root[i].gfn != CPT_FREE_GFN)
            counts.roots[c->root[i].state]++;
    }
    return counts;
}

/* --- references ------------------------------------------------------------------------------- */

/* A walk for people: by nodes as far as they go, by the guest's tables beside them. */
struct reader {
    const struct cpt *c;
    enum cpt_state state;
    uint32_t node;  /* CPT_NONE: not made yet, or below a switch entry */
    bool by_guest;  /* below a switch entry, or NESTED */
    uint64_t table; /* guest-physical */
};

static struct reader reader_at_root(const struct cpt *c, const struct cpt_cpu *cpu)
{
    struct reader r = {.c = c,
                       .state = cpu->root == CPT_NONE ? CPT_NESTED : cpu->state,
                       .node = CPT_NONE,
                       .table = cpu->cr3 & PTE_ADDRESS};

    r.by_guest = r.state == CPT_NESTED;
    if (!r.by_guest)
        r.node = c->root[cpu->root]
                     .node[r.state == CPT_SHADOW ? CPT_FORMAT_SHADOW : CPT_FORMAT_COMPOUND];
    return r;
}

static enum cpt_format reader_format(const struct reader *r)
{
    return r->state == CPT_SHADOW ? CPT_FORMAT_SHADOW : CPT_FORMAT_COMPOUND;
}

/* The node's entry, or 0 where there is none. */
static uint64_t reader_entry(const struct reader *r, unsigned slot)
{
    return r->by_guest || r->node == CPT_NONE ? 0 : node_page(r->c, r->node)[slot];
}

/* On to the table below, by an entry of the node and of the guest. */
static void reader_down(struct reader *r, uint64_t entry, uint64_t e)
{
    r->table = e & PTE_ADDRESS;
    if (entry_kind(entry) == ENTRY_NODE)
        r->node = node_at(r->c, reader_format(r), entry & PTE_ADDRESS);
    else
        r->node = CPT_NONE;
    if (entry_kind(entry) == ENTRY_SWITCH)
        r->by_guest = true;
}

static unsigned ept_references(const struct cpt *c, uint64_t at)
{
    return c->host.ept_references(c->host.context, gpa(at));
}

static unsigned references_of_step(const struct reader *r, unsigned slot)
{
    const struct cpt *c = r->c;

    if (r->by_guest)
        return 1 + ept_references(c, r->table + slot * sizeof(uint64_t));
    return r->state == CPT_SHADOW ? 1
                                  : 1 + ept_references(c, c->node_window + c->memory.node_offset);
}

/* Tables of a split large leaf, below it. */
static unsigned split_levels(const struct cpt *c, uint64_t entry, gva_t at)
{
    unsigned levels = 0;

    while (entry_kind(entry) == ENTRY_SPLIT) {
        uint32_t n = node_at(c, CPT_FORMAT_SHADOW, entry & PTE_ADDRESS);
        levels++;
        entry = node_page(c, n)[pt_index(at, c->node[n].level)];
    }
    return levels;
}

bool cpt_audit(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at, struct cpt_audit *audit)
{
    struct reader r = reader_at_root(c, cpu);

    *audit = (struct cpt_audit){.switched = r.by_guest ? c->settings.levels : 0};
    for (unsigned level = c->settings.levels;; level--) {
        unsigned slot = pt_index(at, level);
        const uint64_t *guest = guest_table(c, r.table >> PAGE_SHIFT);
        uint64_t e = guest ? load_entry(guest + slot) : 0;
        uint64_t entry = reader_entry(&r, slot);
        if (!(e & PTE_P) || entry_is_reserved(c, e, level))
            return false;
        audit->references += references_of_step(&r, slot);
        if (pt_is_leaf(e, level, c->settings.max_leaf)) {
            uint64_t inside = pt_span(level) - 1;
            uint64_t alias = entry_kind(entry) == ENTRY_CLEAN ? c->alias_bit : 0;
            if (r.state == CPT_SHADOW)
                audit->references += split_levels(c, entry, at);
            else
                audit->references +=
                    ept_references(c, alias | (e & PTE_ADDRESS & ~inside) | (at.v & inside));
            return true;
        }
        bool was_guest = r.by_guest;
        reader_down(&r, entry, e);
        if (r.by_guest && !was_guest)
            audit->switched = level - 1;
    }
}

/* --- the map ---------------------------------------------------------------------------------- */

struct mapper {
    const struct cpt *c;
    void (*line)(void *context, const char *text);
    void *context;
    uint64_t from, to; /* of the run */
    const char *how;   /* NULL: no run */
    unsigned lines;
};

#define MAP_LINES_MAX 256u

static void end_run(struct mapper *m)
{
    char text[100];

    if (!m->how)
        return;
    if (m->lines++ < MAP_LINES_MAX) {
        snprintf(text, sizeof(text), "%016llx-%016llx %8llu KiB  %s", (unsigned long long)m->from,
                 (unsigned long long)m->to - 1, (unsigned long long)(m->to - m->from) >> 10,
                 m->how);
        m->line(m->context, text);
    } else if (m->lines == MAP_LINES_MAX + 1) {
        m->line(m->context, "... and more, which this map has no room for");
    }
    m->how = NULL;
}

static void add_region(struct mapper *m, uint64_t from, uint64_t bytes, const char *how)
{
    if (m->how == how && m->to == from) {
        m->to += bytes;
        return;
    }
    end_run(m);
    m->from = from;
    m->to = from + bytes;
    m->how = how;
}

static const char *handling_name(const struct cpt *c, uint32_t n)
{
    return c->table[c->node[n].table].handling == HANDLING_UNSYNC ? "out of sync" : "shadow";
}

static void map_node(struct mapper *m, uint32_t n, uint64_t base, enum cpt_format format)
{
    unsigned level = m->c->node[n].level;

    for (unsigned slot = 0; slot < PT_ENTRIES; slot++) {
        uint64_t entry = node_page(m->c, n)[slot];
        uint64_t at = base + slot * pt_span(level);
        switch (entry_kind(entry)) {
        case ENTRY_SWITCH:
            add_region(m, canonical(m->c, at), pt_span(level), "nested");
            break;
        case ENTRY_TRAP:
            if (level > 1)
                add_region(m, canonical(m->c, at), pt_span(level), "not used yet");
            break;
        case ENTRY_NODE: {
            uint32_t child = node_at(m->c, format, entry & PTE_ADDRESS);
            if (m->c->node[child].level == 1)
                add_region(m, canonical(m->c, at), pt_span(level), handling_name(m->c, child));
            else
                map_node(m, child, at, format);
            break;
        }
        case ENTRY_CLEAN:
        case ENTRY_DIRTY:
        case ENTRY_SPLIT:
            add_region(m, canonical(m->c, at), pt_span(level), "shadow, large pages");
            break;
        case ENTRY_EMPTY:
        case ENTRY_FAULT:
            break;
        }
    }
}

void cpt_print_map(const struct cpt *c, const struct cpt_cpu *cpu,
                   void (*line)(void *context, const char *text), void *context)
{
    struct mapper m = {.c = c, .line = line, .context = context};
    struct reader r = reader_at_root(c, cpu);

    if (r.by_guest || r.node == CPT_NONE) {
        line(context, "all of it nested");
        return;
    }
    map_node(&m, r.node, 0, reader_format(&r));
    end_run(&m);
}
