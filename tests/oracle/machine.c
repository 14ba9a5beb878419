/* SPDX-License-Identifier: BSD-2-Clause */
/* See oracle.h: the machine around the model processor, and the hypervisor's side of it. */
#include "tests/oracle/processor.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "hv/paging/internal.h"

void machine_wrong(struct machine *m, const char *format, ...)
{
    va_list args;

    if (m->wrong[0])
        return;
    va_start(args, format);
    vsnprintf(m->wrong, sizeof(m->wrong), format, args);
    va_end(args);
}

struct chance chance_of_seed(uint64_t seed)
{
    return (struct chance){.state = (seed * 0x9e3779b97f4a7c15ull) | 1};
}

uint64_t chance_next(struct chance *chance)
{
    if (chance->bytes) {
        uint64_t v = 0;
        for (unsigned i = 0; i < 2 && chance->left > 0; i++, chance->left--)
            v = v << 8 | *chance->bytes++;
        return v;
    }
    chance->state ^= chance->state >> 12;
    chance->state ^= chance->state << 25;
    chance->state ^= chance->state >> 27;
    return (chance->state * 0x2545f4914f6cdd1dull) >> 16;
}

unsigned below(struct chance *chance, unsigned n)
{
    return (unsigned)(chance_next(chance) % n);
}

/* --- the hypervisor's side of it -------------------------------------------------------------- */

void machine_refresh(struct machine *m, unsigned i)
{
    struct processor *cpu = &m->cpu[i];

    cpt_refresh(m->cpt, &cpu->cpt, m->now);
    cpu->state = cpu->cpt.state;
    cpu->processor_cr3 = cpu->cpt.node_cr3;
}

static uint64_t read_entry(void *context, gpa_t at, unsigned bytes)
{
    struct machine *m = context;
    uint64_t offset;

    (void)bytes;
    return machine_ram_offset(at.v, &offset) ? *(uint64_t *)(m->ram + offset) : ~0ull;
}

static bool swap(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set)
{
    struct machine *m = context;
    uint64_t offset;

    (void)bytes;
    if (!machine_ram_offset(at.v, &offset))
        return true;
    if (*(uint64_t *)(m->ram + offset) != old)
        return false;
    *(uint64_t *)(m->ram + offset) = set;
    return true;
}

static struct walk_registers registers_of(const struct machine *m, const struct processor *cpu)
{
    return (struct walk_registers){
        .cr0 = 1ull << 31 | (cpu->cpt.write_protect ? 1ull << 16 : 0),
        .cr3 = cpu->cpt.cr3,
        .cr4 = 1ull << 5 | (m->levels == 5 ? 1ull << 12 : 0) | (cpu->smep ? 1ull << 20 : 0) |
               (cpu->smap ? 1ull << 21 : 0),
        .efer = 1ull << 10 | (cpu->nxe ? 1ull << 11 : 0),
        .rflags = cpu->ac ? 1ull << 18 : 0,
        .physical_bits = PHYSICAL_BITS,
        .has_1g_pages = true,
    };
}

static enum cpt_result page_fault(struct machine *m, struct processor *cpu, struct cpt_access *a)
{
    struct walk_memory memory = {.context = m, .read = read_entry, .compare_and_swap = swap};
    struct walk_registers registers = registers_of(m, cpu);

    return cpt_page_fault(m->cpt, &cpu->cpt, a, &registers, &memory);
}

/* The store to a table, by emulation or by a step with the page open. */
static bool carry_out(struct machine *m, unsigned i, struct cpt_access *a, unsigned access,
                      uint64_t value, struct outcome *outcome)
{
    struct processor *cpu = &m->cpu[i];
    uint64_t offset;

    if (!machine_ram_offset(a->gpa.v, &offset)) {
        machine_wrong(m, "a table write to what is no RAM, 0x%lx", (unsigned long)a->gpa.v);
        return true;
    }
    if (one_in(&m->chance, 8)) {
        cpt_give_up(m->cpt, a->gpa);
        return false;
    }
    if (i == PROCESSORS || !one_in(&m->chance, 3)) {
        *(uint64_t *)(m->ram + offset) = value;
        cpt_written(m->cpt, a->gpa, 8);
        *outcome = (struct outcome){.kind = OUTCOME_OK, .gpa = a->gpa.v};
        return true;
    }
    cpt_open(m->cpt, &cpu->cpt, a->gpa, a->gva);
    struct attempt t = processor_try(m, cpu, a->gva.v, access);
    bool done = t.kind == TRY_OK && machine_gpa_of_host(t.host) == a->gpa.v;
    if (done)
        *(uint64_t *)(m->ram + offset) = value;
    cpt_close(m->cpt, a->gpa);
    *outcome = (struct outcome){.kind = OUTCOME_OK, .gpa = a->gpa.v};
    return done; /* else something came in between: try again */
}

/* True when the access has ended. */
static bool handle(struct machine *m, unsigned i, struct attempt *t, unsigned access,
                   uint64_t value, struct outcome *outcome)
{
    struct processor *cpu = &m->cpu[i];
    struct cpt_access *a = &t->a;
    enum cpt_result result;

    m->violations++;
    if (t->kind == TRY_VIOLATION) {
        result = cpt_ept_violation(m->cpt, &cpu->cpt, a);
    } else {
        *a = (struct cpt_access){
            .gva = a->gva, .access = access & WALK_FETCH, .error_code = t->error_code};
        result = page_fault(m, cpu, a);
    }
    if (m->verbose)
        printf("  %lu: processor %u, %s: %s at 0x%lx, gpa 0x%lx, access 0x%x%s: result %d\n",
               (unsigned long)m->now, i, cpt_state_name(cpu->state),
               t->kind == TRY_VIOLATION ? "violation" : "fault", (unsigned long)a->gva.v,
               (unsigned long)a->gpa.v, a->access, a->final ? ", final" : "", (int)result);
    switch (result) {
    case CPT_RESUME:
        return false;
    case CPT_FAULT:
        *outcome = (struct outcome){.kind = OUTCOME_FAULT, .error_code = a->error_code};
        return true;
    case CPT_TABLE_WRITE:
        return carry_out(m, i, a, access, value, outcome);
    case CPT_NOT_RAM: { /* as the hypervisor does: walk in software, and emulate what is found */
        if (t->kind == TRY_FAULT) { /* that was a walk */
            *outcome = (struct outcome){.kind = OUTCOME_NO_RAM, .gpa = a->gpa.v};
            return true;
        }
        struct walk_registers registers = registers_of(m, cpu);
        struct walk_memory memory = {.context = m, .read = read_entry, .compare_and_swap = swap};
        struct walk_result w = walk(&memory, &registers, a->gva, access | WALK_SET_AD);
        if (w.status == WALK_FAULT) {
            *outcome = (struct outcome){.kind = OUTCOME_FAULT, .error_code = w.error_code};
            return true;
        }
        *outcome = (struct outcome){.kind = OUTCOME_NO_RAM, .gpa = w.gpa.v};
        uint64_t offset;
        if (machine_ram_offset(w.gpa.v, &offset)) /* it was mended meanwhile */
            return false;
        return true;
    }
    }
    return true;
}

/* Carry the access out once. False when it exited, and is to be tried again. */
static bool access_once(struct machine *m, unsigned i, uint64_t gva, unsigned access,
                        uint64_t value, struct outcome *outcome)
{
    struct processor *cpu = &m->cpu[i];
    struct attempt t = processor_try(m, cpu, gva, access);

    if (t.kind == TRY_FAULT) {
        processor_forget_address(cpu, gva, false);
        t.a.gva = (gva_t){gva};
    }
    if (t.kind == TRY_OK) {
        if (t.host == 0) {
            *outcome = (struct outcome){.kind = OUTCOME_NO_RAM};
            return true;
        }
        if (access & WALK_WRITE)
            *(uint64_t *)(m->ram + (t.host - RAM_BASE)) = value;
        *outcome = (struct outcome){.kind = OUTCOME_OK, .gpa = machine_gpa_of_host(t.host)};
        return true;
    }
    if (t.kind == TRY_FAULT && (cpu->state != CPT_SHADOW || !(t.error_code & PF_P))) {
        *outcome = (struct outcome){.kind = OUTCOME_FAULT, .error_code = t.error_code};
        return true;
    }
    bool ended = handle(m, i, &t, access, value, outcome);
    machine_refresh(m, i);
    return ended;
}

struct outcome machine_access(struct machine *m, unsigned i, uint64_t gva, unsigned access,
                              uint64_t value)
{
    struct outcome outcome = {0};

    m->exited = i;
    for (unsigned exits = 0; exits < EXITS_MAX && !m->wrong[0]; exits++) {
        if (access_once(m, i, gva, access, value, &outcome))
            return outcome;
    }
    machine_wrong(m, "an access to 0x%lx never ends", (unsigned long)gva);
    return outcome;
}

bool machine_read_all(struct machine *m, unsigned i, const uint64_t *gva, unsigned count)
{
    struct outcome outcome = {0};

    m->exited = i;
    for (unsigned n = 0; n < count; n++) {
        if (!access_once(m, i, gva[n], WALK_READ, 0, &outcome))
            return false;
        if (outcome.kind != OUTCOME_OK)
            return true;
    }
    return true;
}

void machine_store(struct machine *m, uint64_t gpa, uint64_t value)
{
    struct processor *cpu = &m->cpu[PROCESSORS];

    for (unsigned exits = 0; exits < EXITS_MAX && !m->wrong[0]; exits++) {
        struct place p = processor_ept(m, cpu, gpa);
        if (p.writable) {
            *p.word = value;
            cpu->ept_stale_writable[hot_frame(gpa)] = true;
            return;
        }
        struct attempt t = processor_violation(cpu, gpa, gpa, WALK_WRITE, true);
        struct outcome outcome;
        if (handle(m, PROCESSORS, &t, WALK_WRITE, value, &outcome))
            return;
    }
    machine_wrong(m, "a store to 0x%lx never ends", (unsigned long)gpa);
}

void machine_leave_links(struct machine *m, uint32_t count)
{
    struct cpt *c = m->cpt;
    uint32_t *at = &c->free_link;

    for (c->link_count = 0; c->link_count < count && *at != CPT_NONE; c->link_count++)
        at = &c->link[*at].next;
    *at = CPT_NONE;
}

void machine_load_cr3(struct machine *m, unsigned i, uint64_t cr3, bool keep)
{
    struct processor *cpu = &m->cpu[i];

    m->exited = i;
    bool recent = cpt_load_recent(m->cpt, &cpu->cpt, cr3, m->now);
    cpu->cpt.cr3 = cr3;
    cpu->pcid = cpu->cpt.pcid ? (unsigned)cr3 & (PCIDS - 1) : 0;
    if (!recent)
        cpt_load_root(m->cpt, &cpu->cpt, m->now);
    cpu->state = cpu->cpt.state;
    cpu->processor_cr3 = cpu->cpt.node_cr3;
    if (!keep) {
        processor_forget_pcid(cpu, cpu->pcid);
        cpu->flushed[cpu->pcid] = m->now;
    }
}

void machine_invlpg(struct machine *m, unsigned i, uint64_t gva)
{
    struct processor *cpu = &m->cpu[i];
    unsigned n = m->invlpgs[i]++ % ARRAY_SIZE(m->invlpg[i]);

    m->exited = i;
    if (cpu->state == CPT_SHADOW && cpt_head(m->cpt)->unsync > 0) {
        cpt_invlpg(m->cpt, &cpu->cpt, (gva_t){gva});
        machine_refresh(m, i);
    }
    processor_forget_address(cpu, gva, true);
    m->invlpg[i][n].page = gva & ~(PAGE_SIZE - 1);
    m->invlpg[i][n].time = m->now;
    m->invlpg[i][n].pcid = cpu->pcid;
}

bool machine_node_used(const struct machine *m, enum cpt_format format, unsigned n)
{
    const struct cpt *c = m->cpt;
    uint32_t first = format == CPT_FORMAT_COMPOUND ? 0 : c->memory.node_count[CPT_FORMAT_COMPOUND];

    return n < c->memory.node_count[format] && c->node[first + n].used;
}

/* --- making it -------------------------------------------------------------------------------- */

static bool protect(void *context, gpa_t page, bool protect_it)
{
    struct machine *m = context;
    unsigned hot = hot_frame(page.v);

    if (hot == HOT_FRAMES)
        return !protect_it; /* no memory to split the page: the table must be nested-handled */
    m->ept_writable[hot] = !protect_it;
    return true;
}

static void invalidate(void *context)
{
    struct machine *m = context;

    if (!m->kicked && m->exited != EXITED_ALL && m->programs < PROGRAMS_BEFORE_BYSTANDERS &&
        m->look_on)
        m->look_on(m);
    for (unsigned i = 0; i <= PROCESSORS; i++)
        processor_forget_all(&m->cpu[i]);
    m->kicked = true;
}

static unsigned references(void *context, gpa_t at)
{
    (void)context;
    return at.v < RAM_BYTES ? 4 : 2;
}

bool machine_create(struct machine *m)
{
    m->ram = aligned_alloc(PAGE_SIZE, RAM_BYTES + RAM_HIGH);
    m->before = malloc(HOT_FRAMES * PAGE_SIZE);
    for (unsigned f = 0; f < CPT_FORMATS; f++)
        m->nodes[f] = aligned_alloc(PAGE_SIZE, NODES_MAX * PAGE_SIZE);
    m->book = malloc(cpt_book_bytes(2 * NODES_MAX, RAM_BYTES + RAM_HIGH));
    return m->ram && m->before && m->nodes[0] && m->nodes[1] && m->book;
}

void machine_destroy(struct machine *m)
{
    free(m->ram);
    free(m->before);
    free(m->nodes[0]);
    free(m->nodes[1]);
    free(m->book);
}

/* Pools from hardly enough to plenty. */
static uint32_t pool_size(struct chance *chance)
{
    static const uint32_t sizes[] = {1, 4, 5, 6, 8, 12, 20, NODES_MAX, NODES_MAX, NODES_MAX};

    return sizes[below(chance, ARRAY_SIZE(sizes))];
}

static struct policy_settings random_policy(struct chance *chance, bool unsync)
{
    return (struct policy_settings){
        .kind = (enum policy_kind)below(chance, unsync ? POLICY_KINDS : POLICY_SHSP),
        .pinned_shadow = one_in(chance, 2),
        .switch_level = below(chance, 5),
        .demote_writes = 2 + below(chance, 4),
        .promote_unchanged = 1 + below(chance, 2),
        .quick_return = 8,
        .root_age = 1,
        .cost_exit = 1500,
        .cost_reference = 16,
        .walk_ticks = 1,
    };
}

static void random_unsync(struct chance *chance, struct policy_settings *policy)
{
    policy->unsync_writes = below(chance, 4);
    policy->flood_writes = one_in(chance, 2) ? 0 : 2 + below(chance, 3);
    policy->prefetch = one_in(chance, 2) ? 0 : 1u << below(chance, 10);
}

void machine_start(struct machine *m, const struct cpt_settings *settings,
                   const uint32_t nodes[CPT_FORMATS])
{
    const char *reason;

    for (unsigned frame = 0; frame < HOT_FRAMES; frame++)
        memset(machine_frame(m, frame), 0, PAGE_SIZE);
    m->wrong[0] = '\0';
    m->kicked = false;
    m->has_seen = false;
    m->exited = EXITED_ALL; /* none has started */
    memset(m->cpu, 0, sizeof(m->cpu));
    memset(m->ept_writable, 1, sizeof(m->ept_writable));
    m->now = 1;
    m->changes = 0;
    m->forgotten = 0;
    memset(m->invlpgs, 0, sizeof(m->invlpgs));
    m->levels = settings->levels;
    trace_create(&m->trace, m->events, TRACE_EVENTS);

    struct cpt_host host = {m, protect, invalidate, references, NULL};
    struct cpt_memory memory = {
        .nodes = {m->nodes[0], m->nodes[1]},
        .node_base = {hpa(0), hpa(NODE_HPA)},
        .node_count = {nodes[0], nodes[1]},
        .book = m->book,
    };
    struct cpt_ram ram = {m->ram, hpa(RAM_BASE), RAM_BYTES, RAM_HIGH};
    memset(m->book, 0, cpt_book_bytes(2 * NODES_MAX, RAM_BYTES + RAM_HIGH));
    m->cpt = cpt_create(&host, &memory, &ram, settings, &m->trace, &reason);
    for (unsigned i = 0; i <= PROCESSORS; i++) {
        struct processor *cpu = &m->cpu[i];
        cpt_add_cpu(m->cpt, &cpu->cpt);
        cpu->cpt.paging = i < PROCESSORS;
        cpu->cpt.write_protect = true;
        cpu->nxe = true;
    }
}

void machine_reset(struct machine *m)
{
    struct chance *chance = &m->chance;
    bool unsync = m->programs != PROGRAMS_BEFORE_UNSYNC;
    unsigned levels = one_in(chance, 4) ? 5 : 4;

    m->kind_walker = one_in(chance, 4);
    m->reuse = !one_in(chance, 4);
    m->narrow = m->programs < PROGRAMS_BEFORE_NARROW && one_in(chance, 2);
    m->orderly = unsync && one_in(chance, 3);
    m->busy = 4 * (levels - 1);
    m->restless = m->programs < PROGRAMS_BEFORE_CHANGES && one_in(chance, 6);

    uint32_t nodes[CPT_FORMATS] = {pool_size(chance), pool_size(chance)};
    struct cpt_settings settings = {
        .levels = levels,
        .physical_bits = PHYSICAL_BITS,
        .max_leaf = 3,
        .no_shadow = one_in(chance, 8),
        .policy = random_policy(chance, unsync),
        .interval = 5 + below(chance, 25),
        .interval_max = 100,
        .stress = one_in(chance, 2) ? 0 : 2 + below(chance, 30),
        .seed = chance_next(chance),
    };
    if (unsync)
        random_unsync(chance, &settings.policy);
    if (m->orderly && !one_in(chance, 4)) { /* what keeps roots in SHADOW */
        nodes[0] = nodes[1] = NODES_MAX;
        settings.no_shadow = false;
        settings.stress = settings.stress ? settings.stress + 100 : 0;
        settings.policy.kind = one_in(chance, 3) ? POLICY_COST : POLICY_STATIC;
        settings.policy.pinned_shadow = true;
        settings.policy.switch_level = 0;
        settings.policy.cost_reference =
            1000; /* walks are dear: nothing is demoted for some exits */
        settings.policy.unsync_writes = 1 + below(chance, 3);
    }
    machine_start(m, &settings, nodes);
    for (unsigned i = 0; i <= PROCESSORS; i++) {
        struct processor *cpu = &m->cpu[i];
        cpu->forgetful = m->programs >= PROGRAMS_BEFORE_NARROW;
        cpu->cpt.pcid = one_in(chance, 2);
        cpu->smep = one_in(chance, 2);
        cpu->smap = one_in(chance, 2);
    }
}

/* --- another policy --------------------------------------------------------------------------- */

/* A policy that never moves a table must not be left with what another one decided. */
static void check_begins_anew(struct machine *m, const struct policy_settings *policy)
{
    const struct cpt *c = m->cpt;
    struct cpt_counts counts = cpt_count(c);
    bool pinned = policy->kind == POLICY_STATIC && policy->pinned_shadow;
    bool nested = policy->kind == POLICY_STATIC && !pinned && policy->switch_level >= 4;

    if (counts.nodes[0] + counts.nodes[1] + counts.tables_shadow + counts.tables_nested +
            counts.tables_unsync >
        0)
        machine_wrong(m, "policy %s begins with another's tables", policy_name(policy->kind));
    for (uint64_t frame = 0; frame < c->frames; frame++) {
        if (frame_protected(c, frame))
            machine_wrong(m, "policy %s begins with a frame protected", policy_name(policy->kind));
    }
    if (nested && counts.roots[CPT_COMPOUND] + counts.roots[CPT_SHADOW] > 0)
        machine_wrong(m, "a root is not NESTED where all are to be");
    for (unsigned i = 0; i < PROCESSORS && pinned; i++) {
        uint32_t root = m->cpu[i].cpt.root;
        if (root != CPT_NONE && c->root[root].state != CPT_SHADOW)
            machine_wrong(m, "a root that runs is not SHADOW where all are to be");
    }
}

void machine_change_policy(struct machine *m)
{
    struct policy_settings before = m->cpt->settings.policy;
    struct policy_settings policy = random_policy(&m->chance, true);

    random_unsync(&m->chance, &policy);
    if (one_in(&m->chance, 4)) { /* the same with other numbers */
        policy.kind = before.kind;
        policy.pinned_shadow = before.pinned_shadow;
        policy.switch_level = before.switch_level;
    }
    bool other = policy.kind != before.kind || policy.pinned_shadow != before.pinned_shadow ||
                 policy.switch_level != before.switch_level;
    if (m->verbose)
        printf("  %lu: policy %s%s, switch level %u\n", (unsigned long)m->now,
               policy_name(policy.kind), policy.pinned_shadow ? ", pinned" : "",
               policy.switch_level);
    cpt_set_policy(m->cpt, &policy);
    m->policies++;
    for (unsigned i = 0; i < PROCESSORS * CPT_RECENT_ROOTS; i++) {
        struct cpt_cpu cpu = m->cpu[i / CPT_RECENT_ROOTS].cpt;
        if (cpt_load_recent(m->cpt, &cpu, cpu.recent[i % CPT_RECENT_ROOTS].cr3, m->now))
            machine_wrong(m, "a root can be loaded as the policy before had it");
    }
    if (cpt_head(m->cpt)->unsync > 0)
        machine_wrong(m, "tables are out of sync after the policy has changed");
    if (other && (policy.kind == POLICY_STATIC ||
                  (policy.kind == POLICY_SHSP && before.kind != POLICY_SHSP)))
        check_begins_anew(m, &policy);
}
