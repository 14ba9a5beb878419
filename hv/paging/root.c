/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest roots: what is known of each, the state that it is walked in, and the processors that run
 * it. */
#include "hv/paging/internal.h"

#define BACKOFF_MAX        256u
#define SHADOW_BACKOFF_MAX 4u
#define SOON               16u /* intervals: a root that falls so soon after it rose rises later */

static uint32_t *bucket(const struct cpt *c, uint64_t gfn)
{
    return &c->root_hash[(gfn ^ gfn >> 12) & (CPT_HASH - 1)];
}

struct root *root_find(const struct cpt *c, uint64_t gfn)
{
    for (uint32_t i = *bucket(c, gfn); i != CPT_NONE; i = c->root[i].hash_next) {
        if (c->root[i].gfn == gfn)
            return &c->root[i];
    }
    return NULL;
}

static bool pinned_shadow(const struct cpt *c)
{
    return c->settings.policy.kind == POLICY_STATIC && c->settings.policy.pinned_shadow;
}

/* --- nodes ------------------------------------------------------------------------------------ */

void root_drop_nodes(struct cpt *c, struct root *r, enum cpt_format format)
{
    uint32_t n = r->node[format];

    if (n == CPT_NONE)
        return;
    r->node[format] = CPT_NONE;
    c->head.generation++;
    node_put(c, n);
    c->owes_invalidation = true;
}

uint32_t root_node(struct cpt *c, struct root *r, enum cpt_format format)
{
    if (r->node[format] != CPT_NONE)
        return r->node[format];
    if (!guest_table(c, r->gfn))
        return CPT_NONE;
    struct table *t = table_get(c, r->gfn, c->settings.levels);
    if (!t)
        return CPT_NONE;
    uint64_t filled = c->stats.filled;
    t->busy++;
    uint32_t n =
        t->handling == HANDLING_SHADOW ? node_get(c, t, c->settings.levels, format) : CPT_NONE;
    t->busy--;
    if (n == CPT_NONE) {
        table_drop_if_unused(c, t);
        return CPT_NONE;
    }
    trace_if_filled(c, filled, t, n);
    c->node[n].refs++;
    r->node[format] = n;
    r->node_epoch[format] = c->epoch;
    return n;
}

void root_set_state(struct cpt *c, struct root *r, enum cpt_state state)
{
    if (state == r->state)
        return;
    uint64_t lasted = clock_of(c) - r->state_since;
    /* Falling to COMPOUND costs little: its nodes are still there. */
    uint32_t most = state == CPT_NESTED ? BACKOFF_MAX : SHADOW_BACKOFF_MAX;
    if (state < r->state && lasted < SOON && r->backoff < most)
        r->backoff *= 2;
    else if (state < r->state && lasted >= SOON)
        r->backoff = lasted >= (uint64_t)SOON * r->backoff ? 1 : r->backoff / 2;
    if (r->state == CPT_NESTED)
        c->risen_roots++;
    else if (state == CPT_NESTED)
        c->risen_roots--;
    r->state = state;
    c->head.generation++;
    r->state_since = clock_of(c);
    if (state == CPT_NESTED) {
        r->age = 0;
        root_drop_nodes(c, r, CPT_FORMAT_COMPOUND);
        root_drop_nodes(c, r, CPT_FORMAT_SHADOW);
    }
    c->events++;
    c->stats.root_changes++;
    c->head.changes++;
    if (c->trace->size > 0)
        *trace_add_handling(c->trace, TRACE_ROOT, r->gfn, state) =
            (struct trace_region){.root = r->gfn, .level = c->settings.levels};
}

bool root_runs(const struct cpt *c, const struct root *r)
{
    for (uint32_t i = 0; i < c->cpus; i++) {
        if (c->cpu[i]->root == (uint32_t)(r - c->root))
            return true;
    }
    return false;
}

static struct root *idle_root(const struct cpt *c, enum cpt_format format)
{
    struct root *oldest = NULL;

    for (uint32_t i = 0; i < CPT_ROOTS; i++) {
        struct root *r = &c->root[i];
        bool wanted =
            format == CPT_FORMATS || (r->gfn != CPT_FREE_GFN && r->node[format] != CPT_NONE);
        if (wanted && !root_runs(c, r) && !r->busy && (!oldest || r->used < oldest->used))
            oldest = r;
    }
    return oldest;
}

bool evict_root(struct cpt *c, enum cpt_format format)
{
    struct root *r = idle_root(c, format);

    if (!r)
        return false;
    c->stats.evictions++;
    root_set_state(c, r, CPT_NESTED);
    return true;
}

static struct root *root_get(struct cpt *c, uint64_t gfn)
{
    struct root *r = root_find(c, gfn);

    if (r)
        return r;
    r = idle_root(c, CPT_FORMATS); /* records that were never used are the oldest */
    if (!r)
        return NULL;
    if (r->gfn != CPT_FREE_GFN) {
        c->head.generation++; /* nobody may take the record for what it was */
        root_set_state(c, r, CPT_NESTED);
        uint32_t *at = bucket(c, r->gfn);
        while (*at != (uint32_t)(r - c->root))
            at = &c->root[*at].hash_next;
        *at = r->hash_next;
    }
    *r = (struct root){
        .gfn = gfn,
        .hash_next = *bucket(c, gfn),
        .state = CPT_NESTED,
        .node = {CPT_NONE, CPT_NONE},
        .used = c->epoch,
        .state_since = clock_of(c),
        .blocker = CPT_FREE_GFN,
        .backoff = 1,
    };
    *bucket(c, gfn) = (uint32_t)(r - c->root);
    if (c->roots_used <= (uint32_t)(r - c->root))
        c->roots_used = (uint32_t)(r - c->root) + 1;
    return r;
}

/* --- the policy's question -------------------------------------------------------------------- */

bool root_is_blocked(const struct cpt *c, const struct root *r)
{
    const struct table *t = r->blocker == CPT_FREE_GFN ? NULL : table_find(c, r->blocker);

    return (t && t->handling == HANDLING_NESTED && !t->idle) || c->settings.no_shadow;
}

static unsigned saved(unsigned nested, unsigned other)
{
    return nested > other ? nested - other : 0;
}

void root_ask_policy(struct cpt *c, struct root *r, uint64_t ran, uint64_t loads)
{
    unsigned levels = c->settings.levels;
    unsigned ram = c->host.ept_references(c->host.context, gpa(r->gfn << PAGE_SHIFT));
    unsigned window =
        c->host.ept_references(c->host.context, gpa(c->node_window + c->memory.node_offset));
    unsigned nested = levels * (ram + 1) + ram;
    struct policy_root view = {
        .state = r->state,
        .age = r->age,
        .ran = ran,
        .loads = loads,
        .blocked = root_is_blocked(c, r),
        .state_age = clock_of(c) - r->state_since,
        .backoff = r->backoff,
        .misses = r->misses,
        .updates = r->updates,
        .exits = r->exits,
        .saved_compound = saved(nested, levels * (window + 1) + ram),
        .saved_shadow = saved(nested, levels),
    };

    r->asked_ran = r->ran;
    r->asked_loads = r->loads;
    root_set_state(c, r, policy_root_state(&c->settings.policy, &view));
}

/* --- processors ------------------------------------------------------------------------------- */

static uint64_t own_cr3_bits(const struct cpt_cpu *cpu)
{
    return cpu->cr3 & (cpu->pcid ? PAGE_SIZE - 1 : PTE_PWT | PTE_PCD);
}

void cpt_add_cpu(struct cpt *c, struct cpt_cpu *cpu)
{
    *cpu = (struct cpt_cpu){.root = CPT_NONE};
    for (unsigned i = 0; i < CPT_RECENT_ROOTS; i++)
        cpu->recent[i].root = CPT_NONE;
    c->cpu[c->cpus++] = cpu;
}

static void collect_counts(struct cpt *c, struct cpt_cpu *cpu, uint64_t now)
{
    cpu->recent[cpu->running].ran += now - cpu->since;
    cpu->since = now;
    if (cpu->root != CPT_NONE) {
        c->root[cpu->root].misses += cpu->misses - cpu->seen_misses;
        c->root[cpu->root].updates += cpu->updates - cpu->seen_updates;
    }
    cpu->seen_misses = cpu->misses;
    cpu->seen_updates = cpu->updates;
    for (unsigned i = 0; i < CPT_RECENT_ROOTS; i++) {
        struct cpt_recent *recent = &cpu->recent[i];
        c->stats.state_ticks[recent->state] += recent->ran;
        c->stats.cr3_loads += recent->loads;
        if (recent->root != CPT_NONE && (recent->ran > 0 || recent->loads > 0)) {
            struct root *r = &c->root[recent->root];
            r->ran += recent->ran;
            r->loads += recent->loads;
            r->used = c->epoch;
        }
        recent->ran = 0;
        recent->loads = 0;
    }
}

void cpt_collect(struct cpt *c, const struct cpt_cpu *cpu, uint64_t now)
{
    for (uint32_t i = 0; i < c->cpus; i++)
        collect_counts(c, c->cpu[i], c->cpu[i] == cpu ? now : c->cpu[i]->since);
}

/* The node that `state` walks by, or CPT_NONE. */
static uint32_t node_for(struct cpt *c, struct root *r, enum cpt_state state)
{
    enum cpt_format format = state == CPT_SHADOW ? CPT_FORMAT_SHADOW : CPT_FORMAT_COMPOUND;
    uint32_t n = r->node[format];

    r->node_epoch[format] = c->epoch;
    if (n != CPT_NONE)
        return n;
    r->busy = 1;
    n = root_node(c, r, format);
    r->busy = 0;
    return n;
}

/* The state and CR3 for `cpu`, which runs root `r` or none. */
static void walk_by(struct cpt *c, struct cpt_cpu *cpu, struct root *r)
{
    enum cpt_state before = cpu->state;

    cpu->state = r ? r->state : CPT_NESTED;
    cpu->node_cr3 = cpu->cr3;
    cpu->seen_protect = cpu->write_protect;
    /* Without CR0.WP a supervisor's write would ignore what SHADOW protects by. */
    if (cpu->state == CPT_SHADOW && (!cpu->write_protect || c->settings.no_shadow) &&
        RULE(SHADOW_NEEDS_WP))
        cpu->state = CPT_COMPOUND;
    /* What it invalidated without EPT's nodes, it has not told. */
    if (cpu->state == CPT_SHADOW && before != CPT_SHADOW && RULE(ENTERING_SHADOW_RESYNCS))
        resync_all(c);
    if (cpu->state != CPT_NESTED) {
        uint32_t n = node_for(c, r, cpu->state);
        if (n != CPT_NONE) {
            cpu->node_cr3 = node_address(c, n) | own_cr3_bits(cpu);
        } else {
            cpu->state = CPT_NESTED;
            root_set_state(c, r, CPT_NESTED);
        }
    }
    cpu->generation = c->head.generation;
}

void cpt_load_root(struct cpt *c, struct cpt_cpu *cpu, uint64_t now)
{
    struct root *r = NULL;

    if (RULE(LOADS_RESYNC))
        resync_all(c);
    collect_counts(c, cpu, now);
    cpu->root = CPT_NONE;
    if (cpu->paging)
        r = root_get(c, (cpu->cr3 & PTE_ADDRESS) >> PAGE_SHIFT);
    if (r) {
        cpu->root = (uint32_t)(r - c->root);
        if (pinned_shadow(c) && r->state == CPT_NESTED)
            root_set_state(c, r, CPT_SHADOW);
        else if (r->loads - r->asked_loads >= CPT_ASK_LOADS && r->state != CPT_NESTED)
            root_ask_policy(c, r, r->ran - r->asked_ran, r->loads - r->asked_loads);
    }
    walk_by(c, cpu, r);
    settle(c);
    cpu->running = (uint32_t)(cpu->cr3 >> PAGE_SHIFT) % CPT_RECENT_ROOTS;
    cpu->recent[cpu->running] = (struct cpt_recent){
        .cr3 = cpu->cr3,
        .generation = r ? cpu->generation : 0, /* of no use without a root */
        .node_cr3 = cpu->node_cr3,
        .loads = 1,
        .root = cpu->root,
        .state = cpu->state,
        .write_protect = cpu->write_protect,
        .pcid = cpu->pcid,
    };
}

bool cpt_has_risen_roots(const struct cpt *c)
{
    return c->risen_roots > 0;
}

bool cpt_refresh(struct cpt *c, struct cpt_cpu *cpu, uint64_t now)
{
    enum cpt_state state = cpu->state;
    uint64_t cr3 = cpu->node_cr3;

    if (cpu->generation == c->head.generation && cpu->seen_protect == cpu->write_protect) {
        settle(c);
        return false;
    }
    collect_counts(c, cpu, now);
    walk_by(c, cpu, cpu->root == CPT_NONE ? NULL : &c->root[cpu->root]);
    settle(c);
    cpu->recent[cpu->running].generation = 0; /* what it holds is older */
    cpu->recent[cpu->running].state = cpu->state;
    return cpu->state != state || cpu->node_cr3 != cr3;
}

unsigned cpt_hot_nested_roots(const struct cpt *c, uint64_t *cr3, unsigned room)
{
    const struct root *best[8] = {NULL};
    unsigned count = 0;

    if (room > 8)
        room = 8;
    for (uint32_t i = 0; i < c->roots_used; i++) {
        const struct root *r = &c->root[i];
        if (r->gfn == CPT_FREE_GFN || r->state != CPT_NESTED || r->loads == 0)
            continue;
        unsigned at = count;
        while (at > 0 && best[at - 1]->loads < r->loads)
            at--;
        if (at == room)
            continue;
        if (count < room)
            count++;
        for (unsigned j = count - 1; j > at; j--)
            best[j] = best[j - 1];
        best[at] = r;
    }
    for (unsigned i = 0; i < count; i++)
        cr3[i] = best[i]->gfn << PAGE_SHIFT;
    return count;
}
