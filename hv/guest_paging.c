/* SPDX-License-Identifier: BSD-2-Clause */
/* See guest_paging.h. */
#include "hv/guest_paging.h"

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"
#include "hv/sched.h"

#define SHADOW_MEMORY_SHARE 64u /* of the VM's memory, by default */
#define SHADOW_MEMORY_LEAST MIB(8)
#define US_PER_SECOND       1000000u
#define INTERVAL_MAX_US     10000u /* quiet intervals grow to this */
#define LEVELS              4u     /* no guest is offered LA57 yet */

/* --- memory ----------------------------------------------------------------------------------- */

static uint64_t shadow_memory(const struct vm_settings *s)
{
    uint64_t share = align_up(s->memory / SHADOW_MEMORY_SHARE, 2 * PAGE_SIZE);

    if (s->shadow_memory)
        return s->shadow_memory;
    return max_u64(share, SHADOW_MEMORY_LEAST);
}

static uint64_t nodes_offset(const struct vm_settings *s)
{
    return align_up(s->memory, PAGE_SIZE_2M);
}

/* A whole number of GiB costs a walk one reference less for each node, and the rest of the last
 * GiB. */
unsigned guest_paging_block_sizes(const struct vm_settings *s, uint64_t sizes[2])
{
    if (s->paging == PAGING_NESTED) {
        sizes[0] = s->memory;
        return 1;
    }
    uint64_t plain = nodes_offset(s) + align_up(shadow_memory(s) / 2, PAGE_SIZE_2M);
    if (arch_max_ept_page() < PAGE_SIZE_1G) {
        sizes[0] = plain;
        return 1;
    }
    sizes[0] = align_up(plain, PAGE_SIZE_1G);
    sizes[1] = plain;
    return 2;
}

static bool has_compound_table(const struct vm_settings *s)
{
    return s->paging == PAGING_SHADOW || s->paging == PAGING_COMPOUND;
}

static size_t trace_pages(const struct vm_settings *s)
{
    return align_up(trace_bytes(s->trace), PAGE_SIZE) >> PAGE_SHIFT;
}

static bool allocate(struct vm *vm, struct why *why)
{
    struct cpt_memory *m = &vm->paging.memory;
    uint32_t nodes = (uint32_t)(shadow_memory(vm->settings) / 2 >> PAGE_SHIFT);
    uint64_t offset = nodes_offset(vm->settings);

    m->node_count[CPT_FORMAT_COMPOUND] = m->node_count[CPT_FORMAT_SHADOW] = nodes;
    m->node_offset = offset;
    m->node_base[CPT_FORMAT_COMPOUND] = hpa_add(vm->ram_base, offset);
    m->nodes[CPT_FORMAT_COMPOUND] = host_ptr(m->node_base[CPT_FORMAT_COMPOUND]);
    m->nodes[CPT_FORMAT_SHADOW] = host_pages_alloc(nodes);
    vm->paging.book_pages =
        align_up(cpt_book_bytes(2 * nodes, vm->settings->memory), PAGE_SIZE) >> PAGE_SHIFT;
    m->book = host_pages_alloc(vm->paging.book_pages);
    void *trace = vm->settings->trace > 0 ? host_pages_alloc(trace_pages(vm->settings)) : NULL;
    if (trace)
        trace_create(&vm->paging.trace, trace, vm->settings->trace);
    if (!m->nodes[CPT_FORMAT_SHADOW] || !m->book)
        return why_set(why, "no memory for nodes: shadow_memory = %llu KiB",
                       (unsigned long long)shadow_memory(vm->settings) >> 10);
    m->node_base[CPT_FORMAT_SHADOW] = host_hpa(m->nodes[CPT_FORMAT_SHADOW]);
    return true;
}

void guest_paging_destroy(struct vm *vm)
{
    struct guest_paging *p = &vm->paging;

    if (p->memory.nodes[CPT_FORMAT_SHADOW])
        host_pages_free(p->memory.nodes[CPT_FORMAT_SHADOW],
                        p->memory.node_count[CPT_FORMAT_SHADOW]);
    if (p->memory.book)
        host_pages_free(p->memory.book, p->book_pages);
    if (p->trace.size > 0)
        host_pages_free(p->trace.ring[0].event, trace_pages(vm->settings));
    *p = (struct guest_paging){0};
}

/* --- making it -------------------------------------------------------------------------------- */

static uint64_t ticks_of_us(uint64_t us)
{
    return time_hz() * us / US_PER_SECOND;
}

/* The policy by which a compound table does what `choice` says. */
static struct policy_settings policy_of(const struct paging_choice *choice)
{
    struct policy_settings policy = choice->policy;

    if (choice->mode != PAGING_COMPOUND) {
        policy.kind = POLICY_STATIC;
        policy.pinned_shadow = choice->mode == PAGING_SHADOW;
        policy.switch_level = choice->mode == PAGING_SHADOW ? 0 : LEVELS;
    }
    if (!arch_sees_invalidations())
        policy.unsync_writes = 0;
    return policy;
}

static struct cpt_settings cpt_settings(const struct vm *vm)
{
    const struct vm_settings *s = vm->settings;
    struct cpt_settings c = {
        .levels = LEVELS,
        .physical_bits = arch_physical_bits(),
        .max_leaf = arch_has_1g_pages() ? 3 : 2,
        .policy = policy_of(&vm->paging.choice),
        .interval = ticks_of_us(s->interval_us),
        .interval_max = ticks_of_us(max_u64(s->interval_us, INTERVAL_MAX_US)),
        .stress = s->stress,
        .seed = s->seed,
    };
    return c;
}

bool guest_paging_create(struct vm *vm, struct why *why)
{
    struct cpt_settings settings = cpt_settings(vm);
    struct cpt_host host = arch_paging_host(vm);
    struct cpt_ram ram = {vm->ram.host, vm->ram_base, vm->ram.low, vm->ram.high};
    const char *reason;

    if (!has_compound_table(vm->settings))
        return true;
    if (!allocate(vm, why))
        return false;
    vm->paging.cpt =
        cpt_create(&host, &vm->paging.memory, &ram, &settings, &vm->paging.trace, &reason);
    if (!vm->paging.cpt)
        return why_set(why, "paging = %s: %s", paging_mode_name(vm->settings->paging), reason);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        cpt_add_cpu(vm->paging.cpt, &vm->vcpu[i].cpt);
    return true;
}

/* --- changing it ------------------------------------------------------------------------------ */

bool guest_paging_ask(struct vm *vm, const struct paging_choice *choice)
{
    struct guest_paging *p = &vm->paging;

    if (__atomic_load_n(&p->is_asked, __ATOMIC_ACQUIRE))
        return false;
    p->asked = *choice;
    __atomic_store_n(&p->is_asked, 1, __ATOMIC_RELEASE);
    vm_ask(vm, VM_ASK_PAGING);
    return true;
}

static const char *policy_text(const struct paging_choice *choice)
{
    switch (choice->mode) {
    case PAGING_SHADOW:
        return "pinned";
    case PAGING_COMPOUND:
        return policy_name(choice->policy.kind);
    default:
        return policy_name(POLICY_STATIC);
    }
}

void guest_paging_change(struct vm *vm)
{
    struct guest_paging *p = &vm->paging;

    if (vm->steps > 0)
        return;
    p->choice = p->asked;
    struct policy_settings policy = policy_of(&p->choice);
    arch_vcpu_flush(&vm->vcpu[0]); /* so that the root is known that it loaded without an exit */
    cpt_set_policy(p->cpt, &policy);
    for (unsigned i = 0; i < vm->vcpu_count; i++) /* which lets them walk as it is now */
        sched_attention(&vm->vcpu[i], ATTEND_FLUSH);
    log_line("%s: from now on paging %s, policy %s", vm->settings->name,
             paging_mode_name(p->choice.mode), policy_text(&p->choice));
    __atomic_store_n(&p->is_asked, 0, __ATOMIC_RELEASE);
}

void guest_paging_written(struct vm *vm, gpa_t at, uint64_t len)
{
    while (vm->paging.cpt && len > 0) {
        uint64_t part = min_u64(len, PAGE_SIZE - at.v % PAGE_SIZE);
        cpt_written(vm->paging.cpt, at, (unsigned)part);
        at = gpa_add(at, part);
        len -= part;
    }
}

/* --- for people ------------------------------------------------------------------------------- */

typedef unsigned long long ull;

static void print_map_line(void *context, const char *text)
{
    log_line("%s:   %s", (const char *)context, text);
}

void guest_paging_print_counts(const struct vm *vm)
{
    const struct cpt *c = vm->paging.cpt;
    const char *name = vm->settings->name;

    if (!c) {
        log_line("%s: paging nested: nothing to tell", name);
        return;
    }
    const struct cpt_stats *s = cpt_stats(c);
    struct cpt_counts n = cpt_count(c);
    console_begin();
    uint64_t all =
        s->state_ticks[CPT_NESTED] + s->state_ticks[CPT_COMPOUND] + s->state_ticks[CPT_SHADOW] + 1;
    log_line("%s: paging %s, policy %s; roots: %u nested, %u compound, %u shadow", name,
             paging_mode_name(vm->paging.choice.mode), policy_text(&vm->paging.choice),
             n.roots[CPT_NESTED], n.roots[CPT_COMPOUND], n.roots[CPT_SHADOW]);
    log_line("%s: time: %llu %% nested, %llu %% compound, %llu %% shadow", name,
             (ull)(s->state_ticks[CPT_NESTED] * 100 / all),
             (ull)(s->state_ticks[CPT_COMPOUND] * 100 / all),
             (ull)(s->state_ticks[CPT_SHADOW] * 100 / all));
    log_line(
        "%s: tables: %u shadow-handled, %u out of sync, %u nested-handled; nodes: %u compound, "
        "%u shadow",
        name, n.tables_shadow, n.tables_unsync, n.tables_nested, n.nodes[CPT_FORMAT_COMPOUND],
        n.nodes[CPT_FORMAT_SHADOW]);
    log_line("%s: %llu KiB of nodes map %llu KiB", name, (ull)n.node_bytes >> 10,
             (ull)n.mapped_bytes >> 10);
    log_line(
        "%s: table writes: %llu trapped, %llu carried out; tables found changed without a trap: "
        "%llu",
        name, (ull)s->table_writes, (ull)s->emulated, (ull)s->changed_tables);
    log_line(
        "%s: %llu syncs, %llu clean pages written, %llu nodes filled, %llu invalidations, %llu CR3 "
        "loads",
        name, (ull)s->syncs, (ull)s->dirtied, (ull)s->filled, (ull)s->invalidations,
        (ull)s->cr3_loads);
    log_line(
        "%s: %llu promotions, %llu demotions, %llu evictions, %llu changes of a root's state, %llu "
        "intervals",
        name, (ull)s->promotions, (ull)s->demotions, (ull)s->evictions, (ull)s->root_changes,
        (ull)s->intervals);
    log_line(
        "%s: out of sync: %llu tables went, %llu came back; %llu INVLPGs, %llu entries prefetched; "
        "%llu nodes dropped for floods of writes",
        name, (ull)s->unsyncs, (ull)s->resyncs, (ull)s->invlpgs, (ull)s->prefetched,
        (ull)s->floods);
    console_end();
}

void guest_paging_print_map(const struct vm *vm)
{
    const char *name = vm->settings->name;

    console_begin();
    if (vm->paging.cpt) {
        log_line("%s: regions of the root that runs:", name);
        cpt_print_map(vm->paging.cpt, &vm->vcpu[0].cpt, print_map_line, (void *)(uintptr_t)name);
    } else {
        log_line("%s: no compound page table: the processor walks the guest's own everywhere",
                 name);
    }
    console_end();
}

void guest_paging_print(const struct vm *vm)
{
    console_begin();
    guest_paging_print_counts(vm);
    if (vm->paging.cpt)
        guest_paging_print_map(vm);
    console_end();
}

/* --- for programs ----------------------------------------------------------------------------- */

void guest_paging_print_json(const struct vm *vm)
{
    const struct cpt *c = vm->paging.cpt;

    if (!c)
        return;
    const struct cpt_stats *s = cpt_stats(c);
    struct cpt_counts n = cpt_count(c);
    console_printf(
        ", \"policy\": \"%s\", \"roots\": {\"nested\": %u, \"compound\": %u, \"shadow\": %u}",
        policy_text(&vm->paging.choice), n.roots[CPT_NESTED], n.roots[CPT_COMPOUND],
        n.roots[CPT_SHADOW]);
    console_printf(", \"state_ticks\": {\"nested\": %llu, \"compound\": %llu, \"shadow\": %llu}",
                   (ull)s->state_ticks[CPT_NESTED], (ull)s->state_ticks[CPT_COMPOUND],
                   (ull)s->state_ticks[CPT_SHADOW]);
    console_printf(", \"tables_shadow\": %u, \"tables_nested\": %u, \"nodes_compound\": %u, "
                   "\"nodes_shadow\": %u",
                   n.tables_shadow, n.tables_nested, n.nodes[CPT_FORMAT_COMPOUND],
                   n.nodes[CPT_FORMAT_SHADOW]);
    console_printf(", \"node_bytes\": %llu, \"mapped_bytes\": %llu, \"pt_writes_trapped\": %llu, "
                   "\"pt_writes_carried_out\": %llu, \"tables_found_changed\": %llu",
                   (ull)n.node_bytes, (ull)n.mapped_bytes, (ull)s->table_writes, (ull)s->emulated,
                   (ull)s->changed_tables);
    console_printf(", \"syncs\": %llu, \"dirtied\": %llu, \"filled\": %llu, \"promotions\": %llu, "
                   "\"demotions\": %llu, \"evictions\": %llu",
                   (ull)s->syncs, (ull)s->dirtied, (ull)s->filled, (ull)s->promotions,
                   (ull)s->demotions, (ull)s->evictions);
    console_printf(", \"root_changes\": %llu, \"invalidations\": %llu, \"cr3_loads\": %llu, "
                   "\"intervals\": %llu, \"promotion_ticks_max\": %llu",
                   (ull)s->root_changes, (ull)s->invalidations, (ull)s->cr3_loads,
                   (ull)s->intervals, (ull)s->promotion_ticks_max);
    console_printf(
        ", \"tables_unsync\": %u, \"unsyncs\": %llu, \"resyncs\": %llu, \"invlpgs\": %llu, "
        "\"prefetched\": %llu, \"floods\": %llu",
        n.tables_unsync, (ull)s->unsyncs, (ull)s->resyncs, (ull)s->invlpgs, (ull)s->prefetched,
        (ull)s->floods);
}

static void print_event(const char *name, const struct trace_event *e, struct trace_region region)
{
    console_begin();
    console_printf("@trace {\"vm\": \"%s\", \"time\": %llu, \"event\": \"%s\", \"value\": %llu, "
                   "\"detail\": %u",
                   name, (ull)e->time, trace_kind_name((enum trace_kind)e->kind), (ull)e->value,
                   e->detail);
    if (region.va != TRACE_NOWHERE)
        console_printf(", \"va\": %llu, \"level\": %u, \"root\": %llu", (ull)region.va,
                       region.level, (ull)region.root);
    console_printf("}\n");
    console_end();
}

void guest_paging_print_trace(const struct vm *vm)
{
    static const char *const ring_names[TRACE_RINGS] = {
        [TRACE_HANDLING] = "changes of handling",
        [TRACE_FREQUENT] = "syncs and stores",
    };
    const struct trace *t = &vm->paging.trace;
    const struct trace_event *e;
    struct trace_region region;
    struct trace_cursor cursor = {0};

    if (!vm->paging.cpt || t->size == 0)
        return;
    for (unsigned i = 0; i < TRACE_RINGS; i++) {
        if (t->ring[i].count > t->size)
            log_line("%s: the trace holds the last %u of %llu %s", vm->settings->name, t->size,
                     (ull)t->ring[i].count, ring_names[i]);
    }
    while ((e = trace_next(t, &cursor, &region)) != NULL)
        print_event(vm->settings->name, e, region);
    console_printf("@trace {\"vm\": \"%s\", \"time\": %llu, \"event\": \"end\"}\n",
                   vm->settings->name, (ull)t->time);
}

bool guest_paging_audit(const struct vcpu *vcpu, gva_t at, struct cpt_audit *audit)
{
    struct walk_registers registers;
    struct walk_memory memory;

    if (vcpu->vm->paging.cpt && vcpu->cpt.paging)
        return cpt_audit(vcpu->vm->paging.cpt, &vcpu->cpt, at, audit);
    arch_walk_setup(vcpu, &registers, &memory);
    struct walk_result result = walk(&memory, &registers, at, WALK_NO_CHECK);
    bool nested = vcpu->vm->settings->paging != PAGING_NATIVE;
    *audit = (struct cpt_audit){.references = result.references, .switched = nested ? LEVELS : 0};
    return result.status == WALK_OK;
}
