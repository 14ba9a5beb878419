/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What guests run into: traps, clean pages, write-protected tables, by EPT violations in COMPOUND
 * (and, of tables that other roots shadow, in NESTED) and by page faults in SHADOW.
 *
 * An access that meets what has been mended meanwhile just goes on: the violation or fault itself
 * has invalidated what was cached for its address (SDM 3C 28.4.3.1, SDM 3A 4.10.4.1).
 */
#include "hv/paging/internal.h"

/* --- the guest's own tables, permissions aside ------------------------------------------------ */

struct guest_path {
    unsigned count;             /* entries that were met, the last one not present or a leaf */
    uint64_t *entry[PT_LEVELS]; /* the first is of the root */
    gpa_t leaf;                 /* where `complete` leads, byte-exact */
    bool complete;
    bool outside; /* a table where there is no RAM */
};

static struct guest_path guest_path(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at)
{
    struct guest_path path = {0};
    uint64_t table = cpu->cr3 & PTE_ADDRESS;

    for (unsigned level = c->settings.levels;; level--) {
        uint64_t *guest = guest_table(c, table >> PAGE_SHIFT);
        if (!guest) {
            path.outside = true;
            return path;
        }
        uint64_t *entry = guest + pt_index(at, level);
        uint64_t e = load_entry(entry);
        path.entry[path.count++] = entry;
        if (!(e & PTE_P))
            return path;
        if (pt_is_leaf(e, level, c->settings.max_leaf)) {
            uint64_t inside = pt_span(level) - 1;
            path.leaf = gpa((e & PTE_ADDRESS & ~inside) | (at.v & inside));
            path.complete = true;
            return path;
        }
        table = e & PTE_ADDRESS;
    }
}

const void *cpt_guest_byte(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at)
{
    uint64_t table = cpu->cr3 & PTE_ADDRESS;

    for (unsigned shift = PAGE_SHIFT + 9 * (c->settings.levels - 1);; shift -= 9) {
        const uint64_t *guest = guest_table(c, table >> PAGE_SHIFT);
        if (!guest)
            return NULL;
        uint64_t e = load_entry(guest + (at.v >> shift & (PT_ENTRIES - 1)));
        if (!(e & PTE_P))
            return NULL;
        table = e & PTE_ADDRESS;
        if (shift > PAGE_SHIFT && !(e & PTE_PS))
            continue;
        uint64_t inside = (1ull << shift) - 1;
        uint64_t to = (table & ~inside) | (at.v & inside);
        const uint64_t *page = guest_table(c, to >> PAGE_SHIFT);
        return page ? (const uint8_t *)page + to % PAGE_SIZE : NULL;
    }
}

/* Whether the guest's own tables lead to one of our windows: there is nothing, for the guest. */
static bool means_window(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at)
{
    struct guest_path path = guest_path(c, cpu, at);

    return path.outside || (path.complete && path.leaf.v >= c->node_window);
}

static enum cpt_result spurious(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at)
{
    return means_window(c, cpu, at) ? CPT_NOT_RAM : CPT_RESUME;
}

/* Set bits in an entry that still is present, as a walk does. */
static bool mark(uint64_t *entry, uint64_t bits)
{
    uint64_t e = load_entry(entry);

    while ((e & PTE_P) && (e & bits) != bits) {
        if (swap_entry(entry, e, e | bits))
            return true;
        e = load_entry(entry);
    }
    return false;
}

/*
 * The walk of a guest table that is write-protected for another root's sake had to set A or D in
 * the entry at `slot`, and could not (SDM 3C 28.3.3.2: such a violation is a write, not of the
 * final access). Which of the two cannot be seen: first all A, which a processor may set at any
 * time; when those are there it was D. An entry that is no longer on the way was met by a cached
 * pointer, which the violation has invalidated.
 */
__attribute__((noinline)) static enum cpt_result
set_walk_bits(const struct cpt *c, const struct cpt_cpu *cpu, gva_t at, gpa_t slot)
{
    struct guest_path path = guest_path(c, cpu, at);
    const uint64_t *wanted =
        guest_table(c, slot.v >> PAGE_SHIFT) + slot.v % PAGE_SIZE / sizeof(uint64_t);
    bool marked = false;

    if (path.outside) /* by one of our windows: for the guest a table where there is no RAM */
        return CPT_NOT_RAM;
    for (unsigned i = 0; i < path.count; i++)
        marked |= mark(path.entry[i], PTE_A);
    if (!marked && path.complete &&
        (path.entry[path.count - 1] == wanted || !RULE(D_WHERE_WALK_STOPPED)))
        mark(path.entry[path.count - 1], PTE_D);
    return CPT_RESUME;
}

/* --- stores to tables ------------------------------------------------------------------------- */

/* Its nodes are of no use; but a root's must stay while a processor walks by them. */
static bool drop_nodes(struct cpt *c, struct table *t)
{
    struct root *r = root_find(c, t->gfn);

    if (r && root_runs(c, r))
        return false;
    t->busy++;
    for (unsigned f = 0; r && f < CPT_FORMATS; f++)
        root_drop_nodes(c, r, (enum cpt_format)f);
    t->busy--;
    table_zap(c, t);
    return true;
}

static enum policy_answer ask_policy(const struct cpt *c, const struct cpt_cpu *cpu,
                                     const struct table *t)
{
    struct policy_table view = {
        .level = t->level,
        .writes = t->writes,
        .syncs = t->syncs,
        .flood = t->flood,
        .is_unsync = t->handling == HANDLING_UNSYNC,
        .can_unsync = t->handling == HANDLING_SHADOW && table_can_unsync(c, t),
        .wanted_unchanged = t->wanted_unchanged,
        .walker = cpu->state,
        .interval = c->settings.interval,
        .walk_ticks = cpu->root == CPT_NONE ? 0 : c->root[cpu->root].walk_ticks,
    };

    return policy_at_write(&c->settings.policy, &view);
}

void table_count_sync(struct cpt *c, const struct cpt_cpu *cpu, struct table *t)
{
    table_begin_count(c, t);
    t->syncs++;
    if (ask_policy(c, cpu, t) == POLICY_DEMOTE)
        table_demote(c, t, TRACE_DEMOTE);
}

static enum cpt_result table_ask_policy(struct cpt *c, const struct cpt_cpu *cpu, struct table *t)
{
    t->flood++;
    switch (ask_policy(c, cpu, t)) {
    case POLICY_KEEP:
        return CPT_TABLE_WRITE;
    case POLICY_UNSYNC:
        table_unsync(c, t);
        break;
    case POLICY_DEMOTE:
        table_demote(c, t, TRACE_DEMOTE);
        break;
    case POLICY_ZAP:
        if (!drop_nodes(c, t))
            return CPT_TABLE_WRITE;
        c->stats.floods++;
        break;
    }
    settle(c);
    return CPT_RESUME;
}

__attribute__((noinline)) static enum cpt_result table_write(struct cpt *c,
                                                             const struct cpt_cpu *cpu, gpa_t at)
{
    struct table *t = table_find(c, at.v >> PAGE_SHIFT);

    c->found = t;
    if (!t || t->handling != HANDLING_SHADOW)
        return CPT_RESUME;
    c->stats.table_writes++;
    trace_add(c->trace, TRACE_WRITE, at.v, 0);
    table_begin_count(c, t);
    if (++t->writes < c->ask_writes)
        return CPT_TABLE_WRITE;
    return table_ask_policy(c, cpu, t);
}

__attribute__((noinline)) static void written_at_large(struct cpt *c, struct table *t,
                                                       unsigned first, unsigned last)
{
    t->busy++;
    for (uint32_t n = t->nodes, next; n != CPT_NONE; n = next) {
        next = c->node[n].next;
        for (unsigned slot = first; slot <= last && c->node[n].used && RULE(STORES_SYNC); slot++)
            entry_sync(c, n, slot, false);
        if (next != CPT_NONE && !c->node[next].used)
            next = t->nodes; /* it went with what hung on an entry: from the start, which changes
                                nothing */
    }
    t->busy--;
    if (t->nodes == CPT_NONE)
        table_drop_if_unused(c, t);
    settle(c);
}

void cpt_written(struct cpt *c, gpa_t at, unsigned bytes)
{
    struct table *t = table_find(c, at.v >> PAGE_SHIFT);
    unsigned first = (unsigned)(at.v % PAGE_SIZE) / sizeof(uint64_t);
    unsigned last = (unsigned)(at.v % PAGE_SIZE + bytes - 1) / sizeof(uint64_t);

    if (!t || t->nodes == CPT_NONE || t->handling == HANDLING_UNSYNC)
        return;
    c->stats.emulated++;
    const struct node *node = &c->node[t->nodes];
    if (first != last || node->next != CPT_NONE || node->level != 1)
        written_at_large(c, t, first, last);
    else if (RULE(STORES_SYNC))
        entry_sync(c, t->nodes, first, false); /* nothing hangs on it: nothing else can change */
}

void cpt_give_up(struct cpt *c, gpa_t at)
{
    struct table *t = table_find(c, at.v >> PAGE_SHIFT);

    if (t)
        table_demote(c, t, TRACE_DEMOTE);
    settle(c);
}

uint32_t shadow_end(const struct cpt *c, uint32_t n, gva_t at, unsigned *slot)
{
    for (;;) {
        *slot = pt_index(at, c->node[n].level);
        uint64_t entry = node_page(c, n)[*slot];
        if (entry_kind(entry) != ENTRY_NODE && entry_kind(entry) != ENTRY_SPLIT)
            return n;
        n = node_at(c, CPT_FORMAT_SHADOW, entry & PTE_ADDRESS);
    }
}

void cpt_open(struct cpt *c, struct cpt_cpu *cpu, gpa_t at, gva_t address)
{
    unsigned slot;

    if (cpu->state != CPT_SHADOW) {
        c->host.protect(c->host.context, gpa(align_down(at.v, PAGE_SIZE)), false);
        return;
    }
    uint32_t n = shadow_end(c, c->root[cpu->root].node[CPT_FORMAT_SHADOW], address, &slot);
    if (c->node[n].level == 1)
        entry_open(c, n, slot);
}

void cpt_close(struct cpt *c, gpa_t at)
{
    struct table *t = table_find(c, at.v >> PAGE_SHIFT);
    gpa_t page = gpa(align_down(at.v, PAGE_SIZE));

    if (!t || t->handling != HANDLING_SHADOW || t->nodes == CPT_NONE)
        return;
    c->host.protect(c->host.context, page, true);
    leaves_protect(c, frame_of(c, t->gfn));
    c->owes_invalidation = true;
    settle(c); /* nobody writes any more: now it can be compared */
    cpt_written(c, page, PAGE_SIZE);
}

/* --- COMPOUND --------------------------------------------------------------------------------- */

static enum cpt_result fall_to_nested(struct cpt *c, const struct cpt_cpu *cpu)
{
    if (cpu->root != CPT_NONE)
        root_set_state(c, &c->root[cpu->root], CPT_NESTED);
    return CPT_RESUME;
}

__attribute__((noinline)) static enum cpt_result trapped(struct cpt *c, struct cpt_cpu *cpu,
                                                         const struct cpt_access *a)
{
    uint64_t offset = a->gpa.v - c->trap_window;
    uint32_t n = (uint32_t)(offset >> PAGE_SHIFT_2M);
    unsigned slot = (unsigned)(offset >> PAGE_SHIFT) & (PT_ENTRIES - 1);

    if (a->gpa.v >= c->hole || n >= c->memory.node_count[CPT_FORMAT_COMPOUND])
        return CPT_NOT_RAM;
    struct node *node = &c->node[n];
    /* In NESTED, the guest's own tables lead to a node: what is in it is not meant. */
    if (cpu->state == CPT_NESTED || !node->used ||
        entry_kind(node_page(c, n)[slot]) != ENTRY_TRAP || pt_index(a->gva, node->level) != slot)
        return spurious(c, cpu, a->gva);

    struct table *t = &c->table[node->table];
    uint64_t *guest = guest_table(c, t->gfn) + slot;
    bool writes = a->final && (a->access & WALK_WRITE);
    c->stats.syncs++;
    trace_add(c->trace, TRACE_SYNC, t->gfn, slot | (unsigned)node->level << 12);
    if (node->level == 1) { /* the processor found the access allowed before it met the trap */
        mark(guest, PTE_A | (writes ? PTE_D : 0));
        entry_sync(c, n, slot, true);
        return CPT_RESUME;
    }
    mark(guest, PTE_A);
    node->refs++; /* it may be another root's, met by the guest's own doing: not to be given up
                     meanwhile */
    enum sync_status status = entry_sync(c, n, slot, true);
    uint64_t made = node_page(c, n)[slot];
    node_put(c, n);
    if (status == SYNC_FULL)
        return fall_to_nested(c, cpu);
    if (entry_kind(made) == ENTRY_TRAP && (load_entry(guest) & PTE_A))
        return CPT_NOT_RAM; /* a table where there is no RAM */
    return CPT_RESUME;
}

/* A write by the read-only alias: the guest's tables allow it, D is to be set. */
__attribute__((noinline)) static enum cpt_result
clean_written(struct cpt *c, const struct cpt_cpu *cpu, struct cpt_access *a)
{
    gpa_t at = gpa(a->gpa.v & ~c->alias_bit);
    uint32_t n = cpu->root == CPT_NONE ? CPT_NONE : c->root[cpu->root].node[CPT_FORMAT_COMPOUND];

    while (n != CPT_NONE) {
        unsigned slot = pt_index(a->gva, c->node[n].level);
        uint64_t entry = node_page(c, n)[slot];
        if (entry_kind(entry) == ENTRY_NODE) {
            n = node_at(c, CPT_FORMAT_COMPOUND, entry & PTE_ADDRESS);
            continue;
        }
        if (entry_kind(entry) != ENTRY_CLEAN)
            break;
        c->stats.dirtied++;
        if (RULE(WRITES_SET_D))
            mark(guest_table(c, c->table[c->node[n].table].gfn) + slot, PTE_D);
        entry_sync(c, n, slot, false);
        uint64_t frame = frame_of(c, at.v >> PAGE_SHIFT);
        if (frame == CPT_FREE_GFN)
            return CPT_RESUME; /* a device page: the violation at its own address tells */
        a->gpa = at;
        return frame_protected(c, frame) ? table_write(c, cpu, at) : CPT_RESUME;
    }
    return spurious(c, cpu, a->gva);
}

enum cpt_result cpt_ept_violation(struct cpt *c, struct cpt_cpu *cpu, struct cpt_access *a)
{
    uint64_t frame = frame_of(c, a->gpa.v >> PAGE_SHIFT);
    enum cpt_result result;

    if (frame != CPT_FREE_GFN) {
        if (!(a->access & WALK_WRITE))
            return CPT_RESUME;
        if (a->final)
            return table_write(c, cpu, a->gpa);
        return frame_protected(c, frame) ? set_walk_bits(c, cpu, a->gva, a->gpa) : CPT_RESUME;
    }
    if (a->gpa.v >= c->trap_window)
        result = trapped(c, cpu, a);
    else if (a->gpa.v >= c->alias_bit)
        result = a->access & WALK_WRITE ? clean_written(c, cpu, a) : CPT_NOT_RAM;
    else
        result = CPT_NOT_RAM;
    settle(c);
    return result;
}

/* --- SHADOW ----------------------------------------------------------------------------------- */

/* Sync what the walk for `at` meets, down to the leaf. */
static enum sync_status sync_path(struct cpt *c, uint32_t n, gva_t at, gpa_t *blocker)
{
    uint64_t large = 0; /* the guest's large leaf, below which split nodes stand for its parts */
    unsigned large_level = 0;

    for (;;) {
        unsigned level = c->node[n].level;
        unsigned slot = pt_index(at, level);
        uint64_t entry = node_page(c, n)[slot];
        enum sync_status status = SYNC_OK;

        if (c->node[n].table != CPT_NONE)
            large = load_entry(guest_table(c, c->table[c->node[n].table].gfn) + slot);
        if (entry_kind(entry) != ENTRY_NODE &&
            (entry_kind(entry) != ENTRY_SPLIT || c->node[n].table != CPT_NONE)) {
            bool same_split = false;
            if (entry_kind(entry) == ENTRY_SPLIT) /* W and D of the large leaf are kept here */
                same_split = (entry & PTE_W) != 0 || !(large & PTE_W) || !(large & PTE_D);
            if (!same_split) {
                c->stats.syncs++;
                trace_add(c->trace, TRACE_SYNC,
                          c->node[n].table == CPT_NONE ? CPT_FREE_GFN
                                                       : c->table[c->node[n].table].gfn,
                          slot | level << 12);
                status = c->node[n].table != CPT_NONE
                             ? entry_sync(c, n, slot, true)
                             : entry_sync_part(c, n, slot, large, large_level, at.v);
            }
        }
        if (c->node[n].table != CPT_NONE)
            large_level = level;
        entry = node_page(c, n)[slot];
        if (status == SYNC_BLOCKED || entry_kind(entry) == ENTRY_SWITCH) {
            *blocker = gpa(entry_table(c, n, entry)->gfn << PAGE_SHIFT);
            return SYNC_BLOCKED;
        }
        if (status != SYNC_OK ||
            (entry_kind(entry) != ENTRY_NODE && entry_kind(entry) != ENTRY_SPLIT))
            return status;
        n = node_at(c, CPT_FORMAT_SHADOW, entry & PTE_ADDRESS);
        if (c->node[n].table != CPT_NONE)
            c->table[c->node[n].table].flood = 0;
    }
}

/*
 * A fault at an entry that is not there as the guest has it, of a table that is out of sync or was
 * lately, or that was nested-handled before: it may cost more exits so than its writes would. The
 * first use of a page is another matter: it comes to an end.
 */
static void count_fault(struct cpt *c, const struct cpt_cpu *cpu, gva_t at)
{
    struct root *r = &c->root[cpu->root];
    unsigned slot;
    uint32_t n = shadow_end(c, r->node[CPT_FORMAT_SHADOW], at, &slot);
    uint32_t t = c->node[n].table;

    r->exits++;
    if (t == CPT_NONE || entry_kind(node_page(c, n)[slot]) != ENTRY_TRAP)
        return;
    if (c->table[t].was_unsync || c->table[t].promoted)
        table_count_sync(c, cpu, &c->table[t]);
}

/* SHADOW meets a nested-handled table: rather than leave SHADOW, take the table back, if the policy
 * says so. */
static bool promote_for_use(struct cpt *c, gpa_t at)
{
    struct table *t = table_find(c, at.v >> PAGE_SHIFT);

    if (!t)
        return false;
    struct policy_table view = {
        .level = t->level,
        .walker = CPT_SHADOW,
        .unchanged = t->unchanged,
        .wanted_unchanged = t->wanted_unchanged,
        .since_demotion = t->demoted ? clock_of(c) - t->demoted : UINT64_MAX,
    };

    t->idle = 0;
    if (!policy_promotes_for_use(&c->settings.policy, &view) || !table_promote(c, t))
        return false;
    settle(c);
    return true;
}

/* What the access was, as far as the error code tells: a fetch shows only with NXE or SMEP. */
static unsigned access_of(uint32_t error_code)
{
    return (error_code & PF_W ? WALK_WRITE : 0) | (error_code & PF_I ? WALK_FETCH : 0) |
           (error_code & PF_U ? WALK_USER : 0);
}

enum cpt_result cpt_page_fault(struct cpt *c, struct cpt_cpu *cpu, struct cpt_access *a,
                               const struct walk_registers *registers,
                               const struct walk_memory *memory)
{
    gpa_t blocker;

    /* A trap says nothing of rights, and what looks like a read may be a fetch: bring the entries
     * up to date, and the processor will find out. A write is a write. */
    a->access |= access_of(a->error_code);
    bool trap = (a->error_code & PF_RSVD) && !(a->access & WALK_WRITE);
    struct walk_result w =
        walk(memory, registers, a->gva, a->access | WALK_SET_AD | (trap ? WALK_NO_CHECK : 0));

    bool by_nodes = cpu->state == CPT_SHADOW && cpu->root != CPT_NONE &&
                    c->root[cpu->root].node[CPT_FORMAT_SHADOW] != CPT_NONE;
    if (by_nodes)
        count_fault(c, cpu, a->gva);
    if (w.status == WALK_FAULT) {
        if (by_nodes && c->head.unsync > 0) /* a fault makes the processor forget the address */
            unsync_sync_entry(c, cpu, a->gva, false);
        settle(c);
        a->error_code = w.error_code;
        return CPT_FAULT;
    }
    a->gpa = w.gpa;
    if (!by_nodes) { /* another processor gave its nodes up meanwhile */
        settle(c);
        return CPT_RESUME;
    }
    struct root *r = &c->root[cpu->root];
    if (r->node[CPT_FORMAT_SHADOW] == CPT_NONE) { /* a table that was given up is the root's own */
        settle(c);
        return CPT_RESUME;
    }
    switch (sync_path(c, r->node[CPT_FORMAT_SHADOW], a->gva, &blocker)) {
    case SYNC_FULL:
        return fall_to_nested(c, cpu);
    case SYNC_BLOCKED:
        if (promote_for_use(c, blocker))
            return CPT_RESUME;
        r->blocker = blocker.v >> PAGE_SHIFT;
        look_soon(c);
        root_set_state(c, r, CPT_COMPOUND);
        return CPT_RESUME;
    case SYNC_OK:
        break;
    }
    if (c->head.unsync > 0)
        unsync_sync_entry(c, cpu, a->gva, true);
    settle(c);
    uint64_t frame = frame_of(c, w.gpa.v >> PAGE_SHIFT);
    if (frame == CPT_FREE_GFN) { /* stays a trap: the processor never gets to look at the rights */
        w = walk(memory, registers, a->gva, a->access);
        a->error_code = w.error_code;
        return w.status == WALK_FAULT ? CPT_FAULT : CPT_NOT_RAM;
    }
    if ((a->access & WALK_WRITE) && frame_protected(c, frame))
        return table_write(c, cpu, w.gpa);
    return CPT_RESUME;
}
