/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entries of nodes: what each holds for what the guest's holds (the kinds are in internal.h).
 *
 * Permissions, memory types, global bits and protection keys are copied level by level, so that
 * they stay the processor's business; what changes is where an entry leads, and whether a leaf
 * grants writes.
 */
#include "hv/paging/internal.h"

#define COPIED_TABLE (PTE_P | PTE_W | PTE_U | PTE_PWT | PTE_PCD | PTE_NX)
#define COPIED_LEAF  (COPIED_TABLE | PTE_PS | PTE_G | PTE_KEY) /* bit 7 of level 1 is PAT */
#define COPIED_TRAP  (PTE_P | PTE_W | PTE_U | PTE_NX | PTE_KEY)

#define FRAMES_2M_SHIFT (PAGE_SHIFT_2M - PAGE_SHIFT)
#define COUNT_STICKS    255u
#define TRAP_NODE_SHIFT PAGE_SHIFT_2M /* each node has 512 pages of the trap window */

/* Bits of a large leaf that must be 0: between bit 12, which is PAT, and the page's own address. */
static uint64_t large_reserved(unsigned level)
{
    return (pt_span(level) - 1) & ~0x1fffull;
}

/* NX is left out: nodes copy it, and EFER.NXE is the guest's own. */
bool entry_is_reserved(const struct cpt *c, uint64_t e, unsigned level)
{
    if (e & c->reserved)
        return true;
    if (level == 1 || !(e & PTE_PS))
        return false;
    return level > c->settings.max_leaf || (e & large_reserved(level));
}

static uint64_t fault_entry(const struct cpt *c, uint64_t e, unsigned level)
{
    uint64_t keep = level > 1 ? PTE_PS : 0;
    uint64_t cause = c->reserved ? c->reserved : e & large_reserved(level);

    return (e & (COPIED_TRAP | keep)) | cause | PTE_A | PTE_D | kind_bits(ENTRY_FAULT);
}

static uint64_t trap_entry(const struct cpt *c, uint32_t n, unsigned slot, uint64_t e)
{
    if (node_format(c, n) == CPT_FORMAT_SHADOW)
        return PTE_P | PTE_A | c->high_trap | kind_bits(ENTRY_TRAP);
    return (e & COPIED_TRAP) | PTE_A | PTE_D | kind_bits(ENTRY_TRAP) |
           (c->trap_window + ((uint64_t)n << TRAP_NODE_SHIFT) + ((uint64_t)slot << PAGE_SHIFT));
}

/* --- leaves ----------------------------------------------------------------------------------- */

static uint64_t leaf_base(uint64_t e, unsigned level)
{
    return e & PTE_ADDRESS & ~(pt_span(level) - 1);
}

static uint64_t leaf_flags(uint64_t e, unsigned level)
{
    return (e & (COPIED_LEAF | (level > 1 ? PTE_PAT_LARGE : 0))) | PTE_A | PTE_D;
}

static uint64_t compound_leaf(const struct cpt *c, uint64_t e, unsigned level)
{
    uint64_t base = leaf_base(e, level);
    uint64_t flags = leaf_flags(e, level);

    if (base >= c->node_window || base + pt_span(level) > c->node_window)
        return c->hole | flags | kind_bits(ENTRY_DIRTY); /* our windows are not the guest's */
    if (!(e & PTE_D) && RULE(CLEAN_NEEDS_D))
        return c->alias_bit | base | flags | kind_bits(ENTRY_CLEAN);
    return base | flags | kind_bits(ENTRY_DIRTY);
}

/* Whether the host's frames under [base, base + span) are one run with the alignment of a leaf, and
 * where it begins. */
static bool host_run(const struct cpt *c, uint64_t base, uint64_t span, uint64_t *host)
{
    uint64_t first = frame_of(c, base >> PAGE_SHIFT);
    uint64_t last = frame_of(c, (base + span - 1) >> PAGE_SHIFT);

    if (first == CPT_FREE_GFN || last == CPT_FREE_GFN || last - first != (span - 1) >> PAGE_SHIFT)
        return false;
    *host = c->ram.base.v + (first << PAGE_SHIFT);
    return is_aligned(*host, span);
}

static bool any_protected(const struct cpt *c, uint64_t base, uint64_t span)
{
    uint64_t frame = frame_of(c, base >> PAGE_SHIFT);
    uint64_t end = frame + (span >> PAGE_SHIFT);

    for (; frame < end && frame % 64 != 0; frame++) {
        if (frame_protected(c, frame))
            return true;
    }
    for (; frame + 64 <= end; frame += 64) {
        if (c->is_protected[frame / 64])
            return true;
    }
    for (; frame < end; frame++) {
        if (frame_protected(c, frame))
            return true;
    }
    return false;
}

/* Of a page that lies in RAM as one run; 0 when it does not, or holds a table that it would make
 * writable. */
static uint64_t shadow_leaf(const struct cpt *c, uint64_t e, unsigned level)
{
    uint64_t base = leaf_base(e, level), span = pt_span(level), host;
    uint64_t flags = leaf_flags(e, level);
    bool writable = (e & PTE_W) && ((e & PTE_D) || !RULE(CLEAN_NEEDS_D));

    if (!host_run(c, base, span, &host))
        return 0;
    if (writable && RULE(SPLIT_ROUND_TABLES) && any_protected(c, base, span)) {
        if (level > 1)
            return 0;
        writable = false;
    }
    return host | (flags & ~PTE_W) | (writable ? PTE_W : 0) |
           kind_bits(writable ? ENTRY_DIRTY : ENTRY_CLEAN);
}

/* Entry `slot` of a node of `level` that maps a part of the large leaf `e` of `e_level`. W is the
 * business of the entry above. */
static uint64_t split_part(const struct cpt *c, uint64_t e, unsigned e_level, unsigned level,
                           uint64_t at)
{
    uint64_t offset = at & (pt_span(e_level) - 1) & ~(pt_span(level) - 1);
    uint64_t pat = e & PTE_PAT_LARGE ? (level == 1 ? PTE_PS : PTE_PAT_LARGE) : 0;
    uint64_t part = (leaf_base(e, e_level) + offset) | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | pat |
                    (e & (PTE_PWT | PTE_PCD | PTE_G | PTE_KEY)) | (level > 1 ? PTE_PS : 0);

    return shadow_leaf(c, part, level);
}

static uint64_t split_entry(const struct cpt *c, uint64_t e, uint32_t n)
{
    uint64_t writable = e & PTE_D ? 0 : PTE_W;

    return (e & (PTE_P | PTE_U | PTE_NX | PTE_W) & ~writable) | PTE_A | node_address(c, n) |
           kind_bits(ENTRY_SPLIT);
}

/* --- tables below ----------------------------------------------------------------------------- */

uint64_t entry_for_table(const struct cpt *c, uint32_t n, uint64_t e, const struct table *t)
{
    enum cpt_format format = node_format(c, n);

    if (table_has_nodes_in(t, format))
        return (e & COPIED_TABLE) | PTE_A | kind_bits(ENTRY_NODE) |
               node_address(c, table_node(c, t, c->node[n].level - 1u, format));
    if (format == CPT_FORMAT_COMPOUND)
        return (e & COPIED_TABLE) | PTE_A | kind_bits(ENTRY_SWITCH) | t->gfn << PAGE_SHIFT;
    return PTE_P | PTE_A | c->high_trap | kind_bits(ENTRY_SWITCH) |
           (uint64_t)table_index(c, t) << PAGE_SHIFT;
}

struct table *entry_table(const struct cpt *c, uint32_t n, uint64_t entry)
{
    enum cpt_format format = node_format(c, n);
    uint64_t address = entry & PTE_ADDRESS;

    if (entry_kind(entry) == ENTRY_NODE)
        return &c->table[c->node[node_at(c, format, address)].table];
    if (format == CPT_FORMAT_COMPOUND)
        return table_find(c, address >> PAGE_SHIFT);
    return &c->table[(address & ~c->high_trap) >> PAGE_SHIFT];
}

/* --- changing an entry ------------------------------------------------------------------------ */

static bool is_writable_leaf(uint64_t entry)
{
    return entry_kind(entry) == ENTRY_DIRTY && (entry & PTE_W);
}

static uint64_t frame_of_host(const struct cpt *c, uint64_t entry, unsigned level)
{
    return (leaf_base(entry, level) - c->ram.base.v) >> PAGE_SHIFT;
}

static void count_leaf(struct cpt *c, struct node *node, uint64_t entry)
{
    uint64_t frame = frame_of_host(c, entry, node->level);
    uint64_t last = frame + (pt_span(node->level) >> PAGE_SHIFT) - 1;

    if (node->level == 1) {
        c->writer[frame] =
            (uint16_t)((uint32_t)(node - c->node) - c->memory.node_count[CPT_FORMAT_COMPOUND]);
        if (c->writable_count[frame] != COUNT_STICKS)
            c->writable_count[frame]++;
    }
    for (uint64_t f = frame; node->level > 1 && f <= last; f += 1u << FRAMES_2M_SHIFT)
        c->large_leaves[f >> FRAMES_2M_SHIFT]++;
    if (frame < node->low)
        node->low = frame;
    if (last > node->high)
        node->high = last;
}

static void uncount_leaf(struct cpt *c, const struct node *node, uint64_t entry)
{
    uint64_t frame = frame_of_host(c, entry, node->level);

    uint64_t frames = pt_span(node->level) >> PAGE_SHIFT;

    if (node->level == 1 && c->writable_count[frame] != COUNT_STICKS)
        c->writable_count[frame]--;
    for (uint64_t f = frame; node->level > 1 && f < frame + frames; f += 1u << FRAMES_2M_SHIFT)
        c->large_leaves[f >> FRAMES_2M_SHIFT]--;
}

/* Store without care for what hangs on the old value, but for the counts of SHADOW's leaves. */
static void store(struct cpt *c, uint32_t n, unsigned slot, uint64_t value)
{
    uint64_t *entry = node_page(c, n) + slot;

    if (node_format(c, n) == CPT_FORMAT_SHADOW) {
        struct node *node = &c->node[n];
        if (is_writable_leaf(value))
            count_leaf(c, node, value);
        if (is_writable_leaf(*entry))
            uncount_leaf(c, node, *entry);
    }
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

/* Let go of what hangs on `old`, which the entry held. */
static void release(struct cpt *c, uint32_t n, unsigned slot, uint64_t old)
{
    enum cpt_format format = node_format(c, n);

    switch (entry_kind(old)) {
    case ENTRY_NODE: {
        uint32_t child = node_at(c, format, old & PTE_ADDRESS);
        link_remove(c, &c->table[c->node[child].table], n, slot);
        node_put(c, child);
        break;
    }
    case ENTRY_SWITCH: {
        struct table *t = entry_table(c, n, old);
        link_remove(c, t, n, slot);
        table_drop_if_unused(c, t);
        break;
    }
    case ENTRY_SPLIT:
        node_put(c, node_at(c, format, old & PTE_ADDRESS));
        break;
    default:
        break;
    }
}

void entry_set(struct cpt *c, uint32_t n, unsigned slot, uint64_t value)
{
    uint64_t old = node_page(c, n)[slot];

    store(c, n, slot, value);
    release(c, n, slot, old);
}

void entry_give_up(struct cpt *c, uint32_t n, unsigned slot)
{
    uint64_t old = node_page(c, n)[slot];

    if (!RULE(GIVEN_UP_STAYS)) {
        entry_set(c, n, slot, 0);
        return;
    }
    if (node_format(c, n) == CPT_FORMAT_SHADOW && is_writable_leaf(old))
        uncount_leaf(c, &c->node[n], old);
    release(c, n, slot, old);
}

void entry_trap(struct cpt *c, uint32_t n, unsigned slot)
{
    const struct node *node = &c->node[n];
    uint64_t e =
        node->table == CPT_NONE ? 0 : load_entry(guest_table(c, c->table[node->table].gfn) + slot);

    entry_set(c, n, slot, trap_entry(c, n, slot, e | PTE_P));
}

void entry_relink(struct cpt *c, uint32_t n, unsigned slot, const struct table *t)
{
    const struct table *own = &c->table[c->node[n].table];

    store(c, n, slot, entry_for_table(c, n, load_entry(guest_table(c, own->gfn) + slot), t));
}

void entry_open(struct cpt *c, uint32_t n, unsigned slot)
{
    uint64_t old = node_page(c, n)[slot];

    if (entry_kind(old) == ENTRY_CLEAN)
        store(c, n, slot, (old & ~ENTRY_KIND_MASK) | PTE_W | kind_bits(ENTRY_DIRTY));
}

/* What leaves that map one frame writable look like in a node. */
struct leaf_pattern {
    uint64_t mask, value;
    unsigned found;
};

static inline void leaf_protect(struct cpt *c, uint32_t n, uint64_t *page, unsigned slot,
                                struct leaf_pattern *pattern)
{
    if (__builtin_expect((page[slot] & pattern->mask) != pattern->value, 1))
        return;
    pattern->found++;
    if (c->node[n].level > 1) /* made anew, in smaller ones, at the next access */
        store(c, n, slot, trap_entry(c, n, slot, 0));
    else
        store(c, n, slot, (page[slot] & ~(PTE_W | ENTRY_KIND_MASK)) | kind_bits(ENTRY_CLEAN));
}

/* Clear W in the leaves of one node that map the frame at `host`; returns how many there were. Four
 * at a time: this is what a promotion takes most of its time for, beside filling. */
static unsigned node_protect(struct cpt *c, uint32_t n, uint64_t host)
{
    uint64_t *page = node_page(c, n);
    uint64_t span_mask = ~(pt_span(c->node[n].level) - 1) & PTE_ADDRESS;
    struct leaf_pattern pattern = {
        .mask = span_mask | ENTRY_KIND_MASK | PTE_W,
        .value = (host & span_mask) | kind_bits(ENTRY_DIRTY) | PTE_W,
    };

    for (unsigned slot = 0; slot < PT_ENTRIES; slot += 4) {
        leaf_protect(c, n, page, slot, &pattern);
        leaf_protect(c, n, page, slot + 1, &pattern);
        leaf_protect(c, n, page, slot + 2, &pattern);
        leaf_protect(c, n, page, slot + 3, &pattern);
    }
    return pattern.found;
}

void leaves_protect(struct cpt *c, uint64_t frame)
{
    uint32_t first = c->memory.node_count[CPT_FORMAT_COMPOUND];
    unsigned left = c->writable_count[frame];
    uint64_t host = c->ram.base.v + (frame << PAGE_SHIFT);
    unsigned large = c->large_leaves[frame >> FRAMES_2M_SHIFT];
    uint32_t hint = first + c->writer[frame];

    /* Most frames have one such leaf, and the node that had it last has it still. */
    if (left > 0 && hint < c->nodes_total && c->node[hint].used && c->node[hint].level == 1) {
        unsigned found = node_protect(c, hint, host);
        left -= left == COUNT_STICKS ? 0 : found;
    }
    for (uint32_t n = first; n < c->shadow_end && left + large > 0; n++) {
        const struct node *node = &c->node[n];
        bool any = node->level == 1 ? left > 0 : large > 0;
        if (!any || !node->used || frame < node->low || frame > node->high)
            continue;
        unsigned found = node_protect(c, n, host);
        left -= left == COUNT_STICKS ? 0 : found;
    }
}

/* --- syncing ---------------------------------------------------------------------------------- */

/* SHADOW: a large leaf that must be mapped by smaller ones. */
static enum sync_status sync_split(struct cpt *c, uint32_t n, unsigned slot, uint64_t e,
                                   unsigned e_level)
{
    uint64_t old = node_page(c, n)[slot];
    uint32_t child;

    /* The same page with more rights: only the entry above changes. Parts are made as they are met,
     * so that what was there for another page must go. */
    if (entry_kind(old) == ENTRY_SPLIT)
        entry_set(c, n, slot, trap_entry(c, n, slot, e));
    child = node_get_split(c, n, slot);
    if (child == CPT_NONE)
        return SYNC_FULL;
    uint64_t *page = node_page(c, child);
    unsigned level = c->node[child].level;
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        page[i] = 0;
        uint64_t part = split_part(c, e, e_level, level, i * pt_span(level));
        store(c, child, i, part ? part : trap_entry(c, child, i, e));
    }
    entry_set(c, n, slot, split_entry(c, e, child));
    return SYNC_OK;
}

enum sync_status entry_sync_part(struct cpt *c, uint32_t n, unsigned slot, uint64_t e,
                                 unsigned e_level, uint64_t at)
{
    unsigned level = c->node[n].level;
    uint64_t part = split_part(c, e, e_level, level, at);

    if (part) {
        entry_set(c, n, slot, part);
        return SYNC_OK;
    }
    if (level == 1) { /* not RAM */
        entry_set(c, n, slot, trap_entry(c, n, slot, e));
        return SYNC_OK;
    }
    uint64_t offset = at & (pt_span(e_level) - 1) & ~(pt_span(level) - 1);
    uint64_t part_leaf = (e & ~(PTE_ADDRESS & ~PTE_PAT_LARGE)) | (leaf_base(e, e_level) + offset) |
                         PTE_W | PTE_U | PTE_A | PTE_D;
    return sync_split(c, n, slot, part_leaf & ~PTE_NX, level);
}

static enum sync_status sync_leaf(struct cpt *c, uint32_t n, unsigned slot, uint64_t e, bool follow)
{
    unsigned level = c->node[n].level;
    uint64_t value;

    if (node_format(c, n) == CPT_FORMAT_COMPOUND) {
        entry_set(c, n, slot, compound_leaf(c, e, level));
        return SYNC_OK;
    }
    value = shadow_leaf(c, e, level);
    if (!value && level > 1 && follow)
        return sync_split(c, n, slot, e, level);
    entry_set(c, n, slot, value ? value : trap_entry(c, n, slot, e));
    return SYNC_OK;
}

/*
 * Whether a link from the entry to the node of `t` at `level` may lead to what is older than the
 * guest could have it: an INVLPG that came before did not reach the tables out of sync below.
 */
static bool link_is_stale(const struct cpt *c, uint32_t n, unsigned slot, const struct table *t,
                          unsigned level)
{
    uint64_t old = node_page(c, n)[slot];
    uint32_t child;

    if (node_format(c, n) != CPT_FORMAT_SHADOW || c->head.unsync == 0 || !RULE(LINKS_RESYNC))
        return false;
    child = table_node(c, t, level, CPT_FORMAT_SHADOW);
    if (child != CPT_NONE && entry_kind(old) == ENTRY_NODE &&
        node_at(c, CPT_FORMAT_SHADOW, old & PTE_ADDRESS) == child)
        return false;
    return t->handling == HANDLING_UNSYNC || (level > 1 && child != CPT_NONE);
}

/* What roots that do not run have linked is given up for an entry that is needed now. `child`
 * stays, whoever led to it. */
static void make_room_for_link(struct cpt *c, uint32_t child)
{
    if (child != CPT_NONE)
        c->node[child].refs++;
    while (c->free_link == CPT_NONE &&
           (evict_root(c, CPT_FORMAT_SHADOW) || evict_root(c, CPT_FORMAT_COMPOUND)))
        ;
    if (child != CPT_NONE)
        c->node[child].refs--;
}

/* The child's node must be kept while what the entry held before goes. */
static enum sync_status sync_table(struct cpt *c, uint32_t n, unsigned slot, uint64_t e,
                                   bool follow)
{
    enum cpt_format format = node_format(c, n);
    unsigned level = c->node[n].level - 1u;
    uint64_t gfn = (e & PTE_ADDRESS) >> PAGE_SHIFT;
    uint32_t child = CPT_NONE;

    if (!guest_table(c, gfn)) {
        entry_set(c, n, slot, trap_entry(c, n, slot, e));
        return SYNC_OK;
    }
    struct table *t = follow ? table_get(c, gfn, level) : table_find(c, gfn);
    uint64_t filled = c->stats.filled;
    bool stale = t && link_is_stale(c, n, slot, t, level);
    if (stale && !follow) {
        entry_set(c, n, slot, trap_entry(c, n, slot, e));
        return SYNC_OK;
    }
    if (t)
        t->busy++; /* making room may take everything from it */
    if (stale && level > 1)
        resync_all(c);
    else if (stale)
        table_resync(c, t);
    if (t && table_has_nodes_in(t, format)) {
        child = table_node(c, t, level, format);
        if (child == CPT_NONE && follow)
            child = node_get(c, t, level, format);
        if (child != CPT_NONE)
            c->node[child].epoch = c->epoch;
    }
    if (t && follow && c->free_link == CPT_NONE)
        make_room_for_link(c, child);
    if (t)
        t->busy--;
    bool to_guest = t && !table_has_nodes_in(t, format);
    if (t && (child != CPT_NONE || to_guest) && link_add(c, t, n, slot)) {
        if (child != CPT_NONE) {
            c->node[child].refs++;
            trace_if_filled(c, filled, t, child);
        }
        entry_set(c, n, slot, entry_for_table(c, n, e, t));
        return to_guest && format == CPT_FORMAT_SHADOW ? SYNC_BLOCKED : SYNC_OK;
    }
    if (t && child != CPT_NONE &&
        c->node[child].refs == 0) { /* made for a link that cannot be had */
        c->node[child].refs = 1;
        node_put(c, child);
    } else if (t) {
        table_drop_if_unused(c, t);
    }
    entry_set(c, n, slot, trap_entry(c, n, slot, e));
    return follow ? SYNC_FULL : SYNC_OK;
}

/* Level 1 of COMPOUND, where most of the work is: nothing hangs on such entries. */
static inline uint64_t compound_level_1(const struct cpt *c, uint32_t n, unsigned slot, uint64_t e)
{
    if (!(e & PTE_P))
        return 0;
    if ((e & c->reserved) && RULE(RESERVED_FAULTS))
        return fault_entry(c, e, 1);
    if (!(e & PTE_A) && RULE(UNUSED_TRAPS))
        return trap_entry(c, n, slot, e);
    return compound_leaf(c, e, 1);
}

/* For what is not present. A table out of sync has traps there: a page fault that no processor
 * could take from what it has cached must be looked at. */
static uint64_t empty_entry(const struct cpt *c, uint32_t n, unsigned slot)
{
    bool unsync = c->table[c->node[n].table].handling == HANDLING_UNSYNC;

    return unsync && RULE(UNSYNC_HAS_NO_EMPTY) ? trap_entry(c, n, slot, 0) : 0;
}

/* Entries on which others may hang. */
__attribute__((noinline)) static enum sync_status sync_any(struct cpt *c, uint32_t n, unsigned slot,
                                                           uint64_t e, bool follow)
{
    unsigned level = c->node[n].level;

    if (!(e & PTE_P)) {
        entry_set(c, n, slot, empty_entry(c, n, slot));
        return SYNC_OK;
    }
    if (entry_is_reserved(c, e, level) && RULE(RESERVED_FAULTS)) {
        entry_set(c, n, slot, fault_entry(c, e, level));
        return SYNC_OK;
    }
    if (!(e & PTE_A) && RULE(UNUSED_TRAPS)) {
        entry_set(c, n, slot, trap_entry(c, n, slot, e));
        return SYNC_OK;
    }
    return pt_is_leaf(e, level, c->settings.max_leaf) ? sync_leaf(c, n, slot, e, follow)
                                                      : sync_table(c, n, slot, e, follow);
}

enum sync_status entry_sync(struct cpt *c, uint32_t n, unsigned slot, bool follow)
{
    const struct node *node = &c->node[n];
    uint64_t e = load_entry(guest_table(c, c->table[node->table].gfn) + slot);

    if (node->level > 1 || node_format(c, n) != CPT_FORMAT_COMPOUND)
        return sync_any(c, n, slot, e, follow);
    __atomic_store_n(node_page(c, n) + slot, compound_level_1(c, n, slot, e), __ATOMIC_RELEASE);
    return SYNC_OK;
}

/* --- filling ---------------------------------------------------------------------------------- */

/* The same by what is usual: a page of RAM that was used. */
static inline uint64_t compound_usual(const struct cpt *c, uint32_t n, unsigned slot, uint64_t e,
                                      uint64_t odd, uint64_t clean)
{
    uint64_t used = PTE_P | PTE_A;

    if (__builtin_expect((e & (used | odd)) != used, 0))
        return compound_level_1(c, n, slot, e);
    return (e & (COPIED_LEAF | PTE_ADDRESS | PTE_A)) | PTE_D |
           (e & PTE_D ? kind_bits(ENTRY_DIRTY) : clean);
}

static void fill_compound_leaves(struct cpt *c, uint32_t n, const uint64_t *guest)
{
    uint64_t *page = node_page(c, n);
    uint64_t odd = PTE_ADDRESS & ~(c->node_window - 1); /* no RAM, or reserved */
    uint64_t clean =
        RULE(CLEAN_NEEDS_D) ? kind_bits(ENTRY_CLEAN) | c->alias_bit : kind_bits(ENTRY_DIRTY);

    for (unsigned slot = 0; slot < PT_ENTRIES; slot += 4) { /* four at a time, as above */
        page[slot] = compound_usual(c, n, slot, load_entry(guest + slot), odd, clean);
        page[slot + 1] = compound_usual(c, n, slot + 1, load_entry(guest + slot + 1), odd, clean);
        page[slot + 2] = compound_usual(c, n, slot + 2, load_entry(guest + slot + 2), odd, clean);
        page[slot + 3] = compound_usual(c, n, slot + 3, load_entry(guest + slot + 3), odd, clean);
    }
}

static uint64_t shadow_level_1(const struct cpt *c, uint32_t n, unsigned slot, uint64_t e)
{
    uint64_t value = 0;

    if (!(e & PTE_P))
        return 0;
    if ((e & c->reserved) && RULE(RESERVED_FAULTS))
        return fault_entry(c, e, 1);
    if ((e & PTE_A) || !RULE(UNUSED_TRAPS))
        value = shadow_leaf(c, e, 1);
    return value ? value : trap_entry(c, n, slot, e);
}

/* The same by what is usual: a used page of low RAM. */
static inline uint64_t shadow_usual(const struct cpt *c, uint32_t n, unsigned slot, uint64_t e)
{
    uint64_t used = PTE_P | PTE_A, at = e & PTE_ADDRESS;

    bool usual = (e & used) == used && at < c->ram.low && RULE(CLEAN_NEEDS_D);

    if (__builtin_expect(!usual || !RULE(SPLIT_ROUND_TABLES), 0))
        return shadow_level_1(c, n, slot, e);
    uint64_t host = (c->ram.base.v + at) | (e & COPIED_LEAF & ~PTE_W) | PTE_A | PTE_D;
    if ((e & (PTE_W | PTE_D)) == (PTE_W | PTE_D) && !frame_protected(c, at >> PAGE_SHIFT))
        return host | PTE_W | kind_bits(ENTRY_DIRTY);
    return host | kind_bits(ENTRY_CLEAN);
}

void node_resync(struct cpt *c, uint32_t n, const uint64_t *guest)
{
    const uint64_t *page = node_page(c, n);

    for (unsigned slot = 0; slot < PT_ENTRIES; slot++) {
        uint64_t value = shadow_usual(c, n, slot, load_entry(guest + slot));
        if (value != page[slot])
            store(c, n, slot, value);
    }
}

void node_trap_empty(struct cpt *c, uint32_t n)
{
    uint64_t *page = node_page(c, n), trap = trap_entry(c, n, 0, 0);

    for (unsigned slot = 0; slot < PT_ENTRIES && RULE(UNSYNC_HAS_NO_EMPTY); slot++) {
        if (page[slot] == 0)
            __atomic_store_n(page + slot, trap, __ATOMIC_RELEASE);
    }
}

void node_fill(struct cpt *c, uint32_t n, const uint64_t *guest)
{
    uint64_t *page = node_page(c, n);

    if (c->node[n].level == 1 && node_format(c, n) == CPT_FORMAT_COMPOUND) {
        fill_compound_leaves(c, n, guest);
        return;
    }
    for (unsigned slot = 0; slot < PT_ENTRIES; slot++)
        page[slot] = 0;
    if (c->node[n].level == 1) {
        node_resync(c, n, guest);
        return;
    }
    for (unsigned slot = 0; slot < PT_ENTRIES; slot++) {
        if (load_entry(guest + slot) & PTE_P)
            entry_sync(c, n, slot, false);
    }
}
