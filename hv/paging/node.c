/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nodes, tables and links: who leads to what, and when memory can be used again.
 *
 * A node that is given up goes to limbo: processors may still have cached pointers to it (SDM 3A
 * 4.10.3, paging-structure caches), so that it is free only after the next invalidation.
 */
#include "hv/paging/internal.h"

#define LINKS_PER_NODE  4u
#define LINKS_SPARE     1024u
#define TABLES_PER_NODE 2u
#define TABLES_SPARE    256u

/* --- making the book -------------------------------------------------------------------------- */

static size_t rounded(size_t bytes)
{
    return (bytes + 15) & ~(size_t)15;
}

static uint32_t links_for(uint32_t nodes)
{
    return nodes * LINKS_PER_NODE + LINKS_SPARE;
}

static uint32_t tables_for(uint32_t nodes)
{
    return nodes * TABLES_PER_NODE + TABLES_SPARE;
}

static size_t bitmap_bytes(uint64_t frames)
{
    return (frames + 63) / 64 * sizeof(uint64_t);
}

size_t cpt_book_bytes(uint32_t nodes, uint64_t ram_bytes)
{
    uint64_t frames = ram_bytes >> PAGE_SHIFT;

    return rounded(sizeof(struct cpt)) + rounded(nodes * sizeof(struct node)) +
           rounded(links_for(nodes) * sizeof(struct link)) +
           rounded(tables_for(nodes) * sizeof(struct table)) +
           rounded(CPT_ROOTS * sizeof(struct root)) + 2 * rounded(CPT_HASH * sizeof(uint32_t)) +
           rounded(bitmap_bytes(frames)) + rounded(frames) + rounded(frames * sizeof(uint16_t)) +
           rounded((frames / PT_ENTRIES + 1) * sizeof(uint16_t));
}

static void *take(uint8_t **at, size_t bytes)
{
    void *taken = *at;

    *at += rounded(bytes);
    return taken;
}

static void make_lists(struct cpt *c)
{
    uint32_t first_shadow = c->memory.node_count[CPT_FORMAT_COMPOUND];

    for (uint32_t f = 0; f < CPT_FORMATS; f++)
        c->free_node[f] = CPT_NONE;
    for (uint32_t n = c->nodes_total; n-- > 0;) {
        enum cpt_format f = n < first_shadow ? CPT_FORMAT_COMPOUND : CPT_FORMAT_SHADOW;
        c->node[n].next = c->free_node[f];
        c->free_node[f] = n;
    }
    c->free_link = CPT_NONE;
    for (uint32_t i = c->link_count; i-- > 0;) {
        c->link[i].next = c->free_link;
        c->free_link = i;
    }
    c->free_table = CPT_NONE;
    for (uint32_t i = c->table_count; i-- > 0;) {
        c->table[i].hash_next = c->free_table;
        c->free_table = i;
    }
    for (uint32_t i = 0; i < CPT_ROOTS; i++)
        c->root[i].gfn = CPT_FREE_GFN;
    for (uint32_t i = 0; i < CPT_HASH; i++)
        c->table_hash[i] = c->root_hash[i] = CPT_NONE;
}

#define EPT_BITS 48u /* of guest-physical addresses that 4-level EPT translates, SDM 3C 28.3.2 */

static unsigned window_bits(unsigned physical_bits)
{
    return physical_bits < EPT_BITS ? physical_bits : EPT_BITS;
}

/* Windows for a guest-physical width; the trap window has room for `nodes`, less the hole at its
 * end. */
static bool lay_out(struct cpt *c)
{
    unsigned bits = window_bits(c->settings.physical_bits);
    uint64_t nodes_max = ((1ull << (bits - 2)) - PAGE_SIZE_1G) >> PAGE_SHIFT_2M;

    c->node_window = 1ull << (bits - 2);
    c->alias_bit = 1ull << (bits - 1);
    c->trap_window = c->alias_bit | c->node_window;
    c->hole = (1ull << bits) - PAGE_SIZE_1G;
    c->reserved =
        c->settings.physical_bits < 52 ? PTE_ADDRESS & (~0ull << c->settings.physical_bits) : 0;
    c->high_trap = PTE_ADDRESS & (~0ull << (c->settings.physical_bits - 2));
    return c->ram.low <= c->node_window &&
           (c->ram.high == 0 || CPT_HIGH_RAM + c->ram.high <= c->node_window) &&
           c->nodes_total < nodes_max;
}

uint64_t cpt_ram_limit(unsigned physical_bits)
{
    return 1ull << (window_bits(physical_bits) - 2);
}

struct cpt *cpt_create(const struct cpt_host *host, const struct cpt_memory *memory,
                       const struct cpt_ram *ram, const struct cpt_settings *settings,
                       struct trace *trace, const char **reason)
{
    uint8_t *at = memory->book;
    struct cpt *c = take(&at, sizeof(*c));

    c->host = *host;
    c->memory = *memory;
    c->ram = *ram;
    c->settings = *settings;
    c->trace = trace;
    c->nodes_total =
        memory->node_count[CPT_FORMAT_COMPOUND] + memory->node_count[CPT_FORMAT_SHADOW];
    c->link_count = links_for(c->nodes_total);
    c->table_count = tables_for(c->nodes_total);
    c->frames = (ram->low + ram->high) >> PAGE_SHIFT;
    c->node = take(&at, c->nodes_total * sizeof(struct node));
    c->link = take(&at, c->link_count * sizeof(struct link));
    c->table = take(&at, c->table_count * sizeof(struct table));
    c->root = take(&at, CPT_ROOTS * sizeof(struct root));
    c->table_hash = take(&at, CPT_HASH * sizeof(uint32_t));
    c->root_hash = take(&at, CPT_HASH * sizeof(uint32_t));
    c->is_protected = take(&at, bitmap_bytes(c->frames));
    c->writable_count = take(&at, c->frames);
    c->writer = take(&at, c->frames * sizeof(uint16_t));
    c->large_leaves = take(&at, (c->frames / PT_ENTRIES + 1) * sizeof(uint16_t));
    make_lists(c);
    c->limbo = CPT_NONE;
    c->next_nested = c->unsync_tables = CPT_NONE;
    c->ask_writes = policy_first_write(&settings->policy);
    c->epoch = 1; /* 0 is "never" */
    c->head.generation = 1;
    c->interval = settings->interval;
    c->random = settings->seed | 1;
    c->settings.no_shadow |= settings->physical_bits >= 52; /* no reserved bit to trap by */
    if (!lay_out(c)) {
        *reason =
            "its RAM or its shadow memory does not fit below the windows that the processor's "
            "physical-address width leaves";
        return NULL;
    }
    return c;
}

gpa_t cpt_node_window(const struct cpt *c)
{
    return gpa(c->node_window);
}

gpa_t cpt_alias(const struct cpt *c, gpa_t at)
{
    return gpa(c->alias_bit | at.v);
}

/* --- tables ----------------------------------------------------------------------------------- */

static uint32_t *bucket(uint32_t *hash, uint64_t gfn)
{
    return &hash[(gfn ^ gfn >> 12) & (CPT_HASH - 1)];
}

struct table *table_search(const struct cpt *c, uint64_t gfn)
{
    for (uint32_t i = *bucket(c->table_hash, gfn); i != CPT_NONE; i = c->table[i].hash_next) {
        if (c->table[i].gfn == gfn)
            return &c->table[i];
    }
    return NULL;
}

void nested_ring_add(struct cpt *c, struct table *t)
{
    uint32_t i = table_index(c, t);

    if (c->next_nested == CPT_NONE) {
        t->nested_next = t->nested_previous = i;
    } else {
        struct table *after = &c->table[c->next_nested];
        t->nested_next = c->next_nested;
        t->nested_previous = after->nested_previous;
        c->table[after->nested_previous].nested_next = i;
        after->nested_previous = i;
    }
    c->next_nested = i;
}

void nested_ring_remove(struct cpt *c, struct table *t)
{
    uint32_t i = table_index(c, t);

    if (c->next_nested == i)
        c->next_nested = t->nested_next == i ? CPT_NONE : t->nested_next;
    c->table[t->nested_previous].nested_next = t->nested_next;
    c->table[t->nested_next].nested_previous = t->nested_previous;
}

struct table *table_get(struct cpt *c, uint64_t gfn, unsigned level)
{
    struct table *t = table_find(c, gfn);

    if (t)
        return t;
    if (c->free_table == CPT_NONE)
        return NULL;
    uint32_t i = c->free_table;
    uint32_t *head = bucket(c->table_hash, gfn);
    t = &c->table[i];
    c->free_table = t->hash_next;
    *t = (struct table){
        .gfn = gfn,
        .hash_next = *head,
        .nodes = CPT_NONE,
        .links = CPT_NONE,
        .handling =
            policy_starts_shadow(&c->settings.policy, level) ? HANDLING_SHADOW : HANDLING_NESTED,
        .level = (uint8_t)level,
        .wanted_unchanged = c->settings.policy.promote_unchanged,
    };
    *head = i;
    c->used_tables[t->handling]++;
    if (t->handling == HANDLING_NESTED)
        nested_ring_add(c, t);
    return t;
}

void table_drop_if_unused(struct cpt *c, struct table *t)
{
    if (t->nodes != CPT_NONE || t->links != CPT_NONE || t->busy)
        return;
    if (c->found == t)
        c->found = NULL;
    uint32_t *at = bucket(c->table_hash, t->gfn);
    while (*at != table_index(c, t))
        at = &c->table[*at].hash_next;
    *at = t->hash_next;
    if (t->handling == HANDLING_UNSYNC)
        unsync_list_remove(c, t);
    if (t->handling == HANDLING_NESTED)
        nested_ring_remove(c, t);
    c->used_tables[t->handling]--;
    t->handling = HANDLING_FREE;
    t->hash_next = c->free_table;
    c->free_table = table_index(c, t);
}

uint32_t table_node(const struct cpt *c, const struct table *t, unsigned level,
                    enum cpt_format format)
{
    for (uint32_t n = t->nodes; n != CPT_NONE; n = c->node[n].next) {
        if (c->node[n].level == level && node_format(c, n) == format)
            return n;
    }
    return CPT_NONE;
}

/* --- links ------------------------------------------------------------------------------------ */

bool link_add(struct cpt *c, struct table *t, uint32_t n, unsigned slot)
{
    uint32_t i = c->free_link;

    if (i == CPT_NONE)
        return false;
    c->free_link = c->link[i].next;
    c->link[i] = (struct link){.node = n, .slot = (uint16_t)slot, .next = t->links};
    t->links = i;
    return true;
}

void link_remove(struct cpt *c, struct table *t, uint32_t n, unsigned slot)
{
    uint32_t *at = &t->links;

    while (c->link[*at].node != n || c->link[*at].slot != slot)
        at = &c->link[*at].next;
    uint32_t i = *at;
    *at = c->link[i].next;
    c->link[i].next = c->free_link;
    c->free_link = i;
}

/* --- nodes ------------------------------------------------------------------------------------ */

void settle_now(struct cpt *c)
{
    c->owes_invalidation = false;
    c->stats.invalidations++;
    if (RULE(INVALIDATE)) /* what processors cached may be older and stricter, or lead to nodes
                             given up */
        c->host.invalidate(c->host.context);
    while (c->limbo != CPT_NONE) {
        uint32_t n = c->limbo;
        enum cpt_format f = node_format(c, n);
        c->limbo = c->node[n].next;
        c->node[n].next = c->free_node[f];
        c->free_node[f] = n;
    }
}

static uint32_t node_alloc(struct cpt *c, enum cpt_format format)
{
    for (;;) {
        if (c->free_node[format] == CPT_NONE)
            settle(c);
        if (c->free_node[format] != CPT_NONE)
            break;
        if (!evict(c, format))
            return CPT_NONE;
    }
    uint32_t n = c->free_node[format];
    c->free_node[format] = c->node[n].next;
    c->used_nodes[format]++;
    if (format == CPT_FORMAT_SHADOW && n >= c->shadow_end)
        c->shadow_end = n + 1;
    return n;
}

bool table_protect(struct cpt *c, const struct table *t)
{
    uint64_t frame = frame_of(c, t->gfn);

    if (frame_protected(c, frame))
        return true;
    if (RULE(PROTECT_IN_EPT) && !c->host.protect(c->host.context, gpa(t->gfn << PAGE_SHIFT), true))
        return false;
    c->is_protected[frame / 64] |= 1ull << frame % 64;
    if (RULE(PROTECT_LEAVES))
        leaves_protect(c, frame);
    if (RULE(INVALIDATE_BEFORE_READING))
        c->owes_invalidation = true;
    return true;
}

void table_unprotect(struct cpt *c, const struct table *t)
{
    uint64_t frame = frame_of(c, t->gfn);

    if (!frame_protected(c, frame))
        return;
    c->is_protected[frame / 64] &= ~(1ull << frame % 64);
    /* Cached translations that still forbid the write end in a violation, which invalidates them
     * (SDM 3C 28.4.3.1): nothing is owed. */
    c->host.protect(c->host.context, gpa(t->gfn << PAGE_SHIFT), false);
}

uint32_t node_get(struct cpt *c, struct table *t, unsigned level, enum cpt_format format)
{
    uint32_t n = table_node(c, t, level, format);

    if (n != CPT_NONE)
        return n;
    n = node_alloc(c, format);
    if (n == CPT_NONE)
        return CPT_NONE;
    if (t->handling != HANDLING_SHADOW || !table_protect(c, t)) { /* it was what eviction found */
        c->node[n].next = c->free_node[format];
        c->free_node[format] = n;
        c->used_nodes[format]--;
        if (t->handling == HANDLING_SHADOW && t->nodes == CPT_NONE)
            table_demote(c, t, TRACE_EVICT);
        return CPT_NONE;
    }
    if (RULE(INVALIDATE_BEFORE_READING))
        settle(c);
    c->node[n] = (struct node){.table = table_index(c, t),
                               .next = t->nodes,
                               .level = (uint8_t)level,
                               .used = 1,
                               .epoch = c->epoch,
                               .low = ~0ull};
    t->nodes = n;
    if (level < t->level)
        t->level = (uint8_t)level;
    c->stats.filled++;
    node_fill(c, n, guest_table(c, t->gfn));
    return n;
}

uint32_t node_get_split(struct cpt *c, uint32_t parent, unsigned slot)
{
    uint32_t n = node_alloc(c, CPT_FORMAT_SHADOW);

    if (n != CPT_NONE)
        c->node[n] = (struct node){.table = CPT_NONE,
                                   .next = parent,
                                   .parent_slot = (uint16_t)slot,
                                   .refs = 1,
                                   .level = (uint8_t)(c->node[parent].level - 1),
                                   .used = 1,
                                   .epoch = c->epoch,
                                   .low = ~0ull};
    return n;
}

static void table_lost_nodes(struct cpt *c, struct table *t)
{
    table_unprotect(c, t);
    if (t->handling != HANDLING_UNSYNC)
        return;
    /* What leads to it still leads to the guest's own table. */
    unsync_list_remove(c, t);
    c->used_tables[HANDLING_UNSYNC]--;
    c->used_tables[HANDLING_NESTED]++;
    t->handling = HANDLING_NESTED;
    nested_ring_add(c, t);
}

/* Give the node up: what its entries lead to, and the table's hold on it. */
static void node_free(struct cpt *c, uint32_t n)
{
    struct node *node = &c->node[n];
    enum cpt_format format = node_format(c, n);
    uint64_t *page = node_page(c, n);

    if (node->level > 1 || format == CPT_FORMAT_SHADOW) {
        for (unsigned slot = 0; slot < PT_ENTRIES; slot++) {
            if (page[slot])
                entry_give_up(c, n, slot);
        }
    }
    if (node->table != CPT_NONE) {
        struct table *t = &c->table[node->table];
        uint32_t *at = &t->nodes;
        while (*at != n)
            at = &c->node[*at].next;
        *at = node->next;
        if (t->nodes == CPT_NONE)
            table_lost_nodes(c, t);
    }
    node->used = 0;
    c->used_nodes[format]--;
    if (RULE(NODES_WAIT)) { /* others may still walk it: not to be used again before an invalidation
                             */
        node->next = c->limbo;
        c->limbo = n;
        c->owes_invalidation = true;
    } else {
        node->next = c->free_node[format];
        c->free_node[format] = n;
    }
}

void node_put(struct cpt *c, uint32_t n)
{
    struct table *t = c->node[n].table == CPT_NONE ? NULL : &c->table[c->node[n].table];

    if (--c->node[n].refs > 0)
        return;
    node_free(c, n);
    if (t)
        table_drop_if_unused(c, t);
}

/* All of a table's nodes, however many lead to them: the links stay. */
void table_free_nodes(struct cpt *c, struct table *t)
{
    t->busy++;
    while (t->nodes != CPT_NONE)
        node_free(c, t->nodes);
    t->busy--;
}

void table_free_nodes_in(struct cpt *c, struct table *t, enum cpt_format format)
{
    t->busy++;
    for (uint32_t n = t->nodes, next; n != CPT_NONE; n = next) {
        next = c->node[n].next;
        if (node_format(c, n) == format)
            node_free(c, n);
    }
    t->busy--;
}
