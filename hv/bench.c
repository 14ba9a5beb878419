/* SPDX-License-Identifier: BSD-2-Clause */
/* See bench.h. */
#include "hv/bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/guest_paging.h"
#include "hv/memory.h"
#include "hv/pmu_text.h"
#include "hv/sched.h"
#include "hv/vm.h"

#define ROWS_MAX          512u
#define TOP_REASONS       2u           /* exits by reason that a row of the table has room for */
#define STEPS_MAX         (1ull << 20) /* of a range that is watched */
#define CENTS             100u
#define THOUSAND          1000u
#define SAMPLE_WALKS      16u  /* of one sample, spread over the ranges */
#define LOOKS_PER_SECOND  100u /* at what a program works with, at the most */
#define PAGE_TABLE_LEVELS 4u
#define TABLE_WIDTH       100u /* columns: what a screen of 800 pixels shows */

_Static_assert(EXIT_REASONS_MAX * sizeof(uint64_t) <= PAGE_SIZE, "one page holds the counters");

/* What the table keeps of a record. Fixed-point numbers are in hundredths. */
struct row {
    char name[TF_BENCH_NAME_MAX];
    const char *paging, *ept_page;
    enum tf_phase phase;
    bool ok, cost_known;
    uint64_t ops;
    uint64_t ticks_per_op, exits_per_op, references; /* hundredths */
    uint64_t cost;                                   /* modelled, cycles an operation */
    struct pmu_counts pmu;
    struct {
        const char *reason;
        uint64_t per_op;
    } top[TOP_REASONS];
};

static struct row rows[ROWS_MAX];
static unsigned row_count;
static unsigned rows_lost;
static bool any_failed;

static const char *phase_name(enum tf_phase phase)
{
    return phase == TF_PHASE_STEADY ? "steady" : "warmup";
}

/* a / b in hundredths, rounded; 0 for b = 0. Exact as long as a < 2^57. */
static uint64_t hundredths(uint64_t a, uint64_t b)
{
    return b == 0 ? 0 : (a * CENTS + b / 2) / b;
}

/* --- the cost model: exits and references, weighted by the settings ------------------------- */

/* References a walk, thousandths: the mean over the time that was measured, or what the audit found
 * at its end. */
static uint64_t mean_references(const struct bench *b)
{
    if (b->ticks_sampled > 0 && b->references_sampled > 0)
        return b->references_sampled / b->ticks_sampled;
    return b->walks > 0 ? b->walk_references * THOUSAND / b->walks : 0;
}

/* Not without operations, nor when nobody counted the walks, nor when there were some of whose
 * references nothing is known. */
static bool cost_is_known(const struct bench *b)
{
    return b->result.ops > 0 && !b->by_mark && (b->result.touches == 0 || mean_references(b) > 0);
}

/* Cycles, hundredths, an operation. */
static uint64_t modelled_cost(const struct vm *vm)
{
    const struct bench *b = &vm->bench;
    const struct policy_settings *p = &vm->paging.choice.policy;
    uint64_t exits = vm_count_exits(b->exits) * p->cost_exit;
    uint64_t per_thousand = mean_references(b) * p->cost_reference; /* of touches */
    uint64_t walks = b->result.touches / THOUSAND * per_thousand +
                     b->result.touches % THOUSAND * per_thousand / THOUSAND;

    return hundredths(exits + walks, b->result.ops);
}

/* --- a record as JSON ------------------------------------------------------------------------- */

typedef unsigned long long ull;

static void print_fraction(const char *name, uint64_t value, uint64_t scale, bool known)
{
    if (known)
        console_printf(", \"%s\": %llu.%0*llu", name, (ull)(value / scale), scale == CENTS ? 2 : 3,
                       (ull)(value % scale));
    else
        console_printf(", \"%s\": null", name);
}

static void print_paging(const struct vm *vm)
{
    const struct bench *b = &vm->bench;
    uint64_t syncs = b->paging.syncs + b->paging.dirtied;

    console_printf(", \"pt_writes_trapped\": %llu, \"syncs\": %llu, \"promotions\": %llu, "
                   "\"demotions\": %llu, \"root_changes\": %llu",
                   (ull)b->paging.table_writes, (ull)syncs, (ull)b->paging.promotions,
                   (ull)b->paging.demotions, (ull)b->paging.root_changes);
    console_printf(", \"state_ticks\": {\"nested\": %llu, \"compound\": %llu, \"shadow\": %llu}",
                   (ull)b->paging.state_ticks[CPT_NESTED], (ull)b->paging.state_ticks[CPT_COMPOUND],
                   (ull)b->paging.state_ticks[CPT_SHADOW]);
    console_printf(", \"node_bytes\": %llu, \"mapped_bytes\": %llu", (ull)b->counts.node_bytes,
                   (ull)b->counts.mapped_bytes);
    bool sampled = b->ticks_sampled > 0 && b->references_sampled > 0;
    print_fraction("walk_refs_mean", mean_references(b), THOUSAND, sampled);
    if (sampled)
        console_printf(", \"walks_by\": {\"shadow\": %llu, \"mixed\": %llu, \"nested\": %llu}",
                       (ull)(b->share_sampled[BENCH_BY_SHADOW] / b->ticks_sampled),
                       (ull)(b->share_sampled[BENCH_MIXED] / b->ticks_sampled),
                       (ull)(b->share_sampled[BENCH_BY_NESTED] / b->ticks_sampled));
    console_printf(", \"touches\": %llu", (ull)b->result.touches);
    print_fraction("modelled_cost", modelled_cost(vm), CENTS, cost_is_known(b));
}

static void print_record(const struct vm *vm)
{
    const struct bench *b = &vm->bench;

    console_begin();
    console_printf(
        "@bench {\"bench\": \"%s\", \"vm\": \"%s\", \"phase\": \"%s\", \"paging\": \"%s\", ",
        b->name, vm->settings->name, phase_name(b->phase),
        paging_mode_name(vm->paging.choice.mode));
    vm_print_ept_page(vm->settings);
    console_printf("\"vcpus\": %u, ", vm->settings->cpus);
    if (vm->paging.choice.mode == PAGING_COMPOUND)
        console_printf("\"policy\": \"%s\", ", policy_name(vm->paging.choice.policy.kind));
    console_printf("\"ops\": %llu, \"ticks\": %llu, \"host_ticks\": ", (ull)b->result.ops,
                   (ull)b->result.ticks);
    if (vm->settings->paging == PAGING_NATIVE)
        console_printf("null, "); /* nothing exits */
    else
        console_printf("%llu, \"audit_ticks\": %llu, ", (ull)b->host_ticks, (ull)b->audit_ticks);
    console_printf("\"exits\": %llu, \"exits_by\": ", (ull)vm_count_exits(b->exits));
    vm_print_exits(b->exits);
    print_fraction("walk_refs", hundredths(b->walk_references, b->walks), CENTS, b->walks > 0);
    print_paging(vm);
    console_printf(", ");
    pmu_print_fields(arch_pmu(), &b->pmu);
    console_printf(", \"walks_audited\": %llu, \"ok\": %s}\n", (ull)b->walks,
                   b->result.ok ? "true" : "false");
    console_end();
}

/* --- a record as a row ------------------------------------------------------------------------ */

/* The reasons with the most exits, largest first. */
static void find_top(struct row *row, const uint64_t *exits, uint64_t ops)
{
    unsigned taken[TOP_REASONS] = {EXIT_REASONS_MAX, EXIT_REASONS_MAX};

    for (unsigned n = 0; n < TOP_REASONS; n++) {
        unsigned best = EXIT_REASONS_MAX;
        for (unsigned i = 0; i < EXIT_REASONS_MAX; i++) {
            if (i != taken[0] && exits[i] > 0 &&
                (best == EXIT_REASONS_MAX || exits[i] > exits[best]))
                best = i;
        }
        taken[n] = best;
        if (best == EXIT_REASONS_MAX)
            return;
        row->top[n].reason = arch_exit_name(best);
        row->top[n].per_op = hundredths(exits[best], ops);
    }
}
_Static_assert(TOP_REASONS == 2, "find_top compares with one predecessor");

/* A row of its own for each record, whichever processor closes it; NULL if there are no more. */
static struct row *new_row(void)
{
    unsigned n = __atomic_fetch_add(&row_count, 1, __ATOMIC_RELAXED);

    if (n < ROWS_MAX)
        return &rows[n];
    __atomic_fetch_sub(&row_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&rows_lost, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void keep_row(const struct vm *vm)
{
    const struct bench *b = &vm->bench;
    struct row *row = new_row();

    if (!row)
        return;
    *row = (struct row){
        .paging = paging_mode_name(vm->paging.choice.mode),
        .ept_page =
            vm->settings->paging == PAGING_NATIVE ? "-" : page_size_name(vm->settings->ept_page),
        .phase = b->phase,
        .ok = b->result.ok != 0,
        .ops = b->result.ops,
        .ticks_per_op = hundredths(b->result.ticks, b->result.ops),
        .exits_per_op = hundredths(vm_count_exits(b->exits), b->result.ops),
        .references = hundredths(b->walk_references, b->walks),
        .cost_known = cost_is_known(b),
        .cost = modelled_cost(vm) / CENTS,
        .pmu = b->pmu,
    };
    memcpy(row->name, b->name, sizeof(row->name));
    find_top(row, b->exits, b->result.ops);
}

/* Of all virtual processors; another's count may be on its way up. */
static uint64_t handling_ticks(const struct vm *vm)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < vm->vcpu_count; i++)
        sum += vm->vcpu[i].host_ticks;
    return sum;
}

/* What was counted between BEGIN and now. */
static void end_counting(struct vm *vm)
{
    struct bench *b = &vm->bench;
    uint64_t exits[EXIT_REASONS_MAX];
    struct pmu_reading pmu_end;

    vm_sum_exits(vm, exits);
    for (unsigned i = 0; i < EXIT_REASONS_MAX; i++)
        b->exits[i] = exits[i] - b->exits[i];
    b->host_ticks = handling_ticks(vm) - b->host_ticks - b->audit_ticks;
    arch_pmu_read(&pmu_end);
    pmu_between(arch_pmu(), &b->pmu_begin, &pmu_end, &b->pmu);
    if (vm->vcpu_count > 1) /* both readings are of one processor, perhaps of two */
        b->pmu = (struct pmu_counts){0};
    if (!vm->paging.cpt)
        return;
    const struct cpt_stats *now = cpt_stats(vm->paging.cpt);
    const struct cpt_stats before = b->paging;
    b->paging = (struct cpt_stats){
        .table_writes = now->table_writes - before.table_writes,
        .syncs = now->syncs - before.syncs,
        .dirtied = now->dirtied - before.dirtied,
        .promotions = now->promotions - before.promotions,
        .demotions = now->demotions - before.demotions,
        .root_changes = now->root_changes - before.root_changes,
    };
    for (unsigned i = 0; i < CPT_STATES; i++)
        b->paging.state_ticks[i] = now->state_ticks[i] - before.state_ticks[i];
    b->counts = cpt_count(vm->paging.cpt);
}

static void close_record(struct vm *vm)
{
    struct bench *b = &vm->bench;

    if (b->state == BENCH_IDLE)
        return;
    if (b->state == BENCH_RUNNING) { /* the guest ended, or was ended, in the middle */
        b->result = (struct tf_bench_result){0};
        end_counting(vm);
    }
    any_failed |= !b->result.ok;
    print_record(vm);
    keep_row(vm);
    b->state = BENCH_IDLE;
}

/* --- hypercalls ------------------------------------------------------------------------------- */

static void begin_samples(struct vcpu *vcpu);

bool bench_init(struct bench *bench)
{
    bench->exits = host_pages_alloc(1);
    return bench->exits != NULL;
}

void bench_finish(struct vm *vm)
{
    if (!vm->bench.exits)
        return;
    close_record(vm);
    host_pages_free(vm->bench.exits, 1);
    vm->bench.exits = NULL;
}

/* Names go into JSON and the table: letters, digits, '.', '_' and '-' only. */
static bool is_name(const char *name)
{
    size_t length = strnlen(name, TF_BENCH_NAME_MAX);

    if (length == 0 || length == TF_BENCH_NAME_MAX)
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
           length;
}

uint64_t bench_begin(struct vcpu *vcpu, const char *name, enum tf_phase phase)
{
    struct bench *b = &vcpu->vm->bench;

    if (!is_name(name) || phase > TF_PHASE_STEADY)
        return TF_E_VALUE;
    close_record(vcpu->vm);
    memcpy(b->name, name, strlen(name) + 1);
    b->phase = phase;
    b->by_mark = false;
    b->audit_ticks = 0;
    b->walks = 0;
    b->walk_references = 0;
    b->counts = (struct cpt_counts){0};
    b->paging = (struct cpt_stats){0};
    if (vcpu->vm->paging.cpt) {
        arch_paging_collect(vcpu);
        b->paging = *cpt_stats(vcpu->vm->paging.cpt);
    }
    begin_samples(vcpu);
    b->state = BENCH_RUNNING;
    /* BEGIN itself is counted already, END is not yet when it looks: neither is in the difference.
     */
    vm_sum_exits(vcpu->vm, b->exits);
    b->look_due = true;
    sched_attention(vcpu, ATTEND_EVENTS); /* bench_look follows */
    arch_pmu_read(&b->pmu_begin);
    return 0;
}

/* The exit by `reason` that ends the record is in the counters, and not in the record. */
static void end_record(struct vcpu *vcpu, const struct tf_bench_result *result, unsigned reason)
{
    struct bench *b = &vcpu->vm->bench;

    b->result = *result;
    bench_sample(vcpu); /* while the guest's registers are at hand */
    if (vcpu->vm->paging.cpt)
        arch_paging_collect(vcpu);
    end_counting(vcpu->vm);
    b->exits[reason]--;
    b->watches = 0;
    b->state = BENCH_ENDED;
}

uint64_t bench_end(struct vcpu *vcpu, const struct tf_bench_result *result)
{
    if (vcpu->vm->bench.state != BENCH_RUNNING)
        return TF_E_STATE;
    end_record(vcpu, result, arch_exit_hypercall);
    return 0;
}

uint64_t bench_mark_begin(struct vcpu *vcpu, const char *name)
{
    struct bench *b = &vcpu->vm->bench;
    uint64_t result;

    b->watches = 0;
    result = bench_begin(vcpu, name, TF_PHASE_STEADY);
    if (result != 0)
        return result;
    b->by_mark = true;
    b->began = vm_time(vcpu->vm);
    b->sampled = time_now();
    return 0;
}

uint64_t bench_mark_end(struct vcpu *vcpu, uint32_t ops)
{
    struct bench *b = &vcpu->vm->bench;

    if (b->state != BENCH_RUNNING || !b->by_mark)
        return TF_E_STATE;
    const struct tf_bench_result result = {
        .ops = ops, .ticks = vm_time(vcpu->vm) - b->began, .ok = ops > 0};
    end_record(vcpu, &result, arch_exit_port);
    close_record(vcpu->vm);
    return 0;
}

void bench_look(struct vcpu *vcpu)
{
    struct bench *b = &vcpu->vm->bench;

    if (!b->look_due)
        return;
    b->look_due = false;
    b->host_ticks = handling_ticks(vcpu->vm);
}

static bool range_is_good(gva_t from, uint64_t bytes, uint64_t step, uint64_t steps_max)
{
    return step > 0 && bytes / step <= steps_max && from.v + bytes >= from.v;
}

uint64_t bench_audit(struct vcpu *vcpu, gva_t from, uint64_t bytes, uint64_t step)
{
    struct bench *b = &vcpu->vm->bench;

    if (b->state != BENCH_ENDED)
        return TF_E_STATE;
    if (!range_is_good(from, bytes, step, TF_AUDIT_MAX - 1))
        return TF_E_VALUE;
    uint64_t count = bytes / step + (bytes % step != 0); /* a sum of steps might wrap */
    for (uint64_t i = 0; i < count; i++) {
        struct cpt_audit audit;
        if (!guest_paging_audit(vcpu, gva_add(from, i * step), &audit))
            return TF_E_FAULT;
        b->walks++;
        b->walk_references += audit.references;
    }
    return 0;
}

uint64_t bench_watch(struct vcpu *vcpu, gva_t from, uint64_t bytes, uint64_t step)
{
    struct bench *b = &vcpu->vm->bench;

    if (b->state == BENCH_RUNNING)
        return TF_E_STATE;
    if (!range_is_good(from, bytes, step, STEPS_MAX) || bytes < step ||
        b->watches == TF_BENCH_WATCHES)
        return TF_E_VALUE;
    b->watch[b->watches].from = from;
    b->watch[b->watches].bytes = bytes;
    b->watch[b->watches++].step = step;
    return 0;
}

/* --- samples ---------------------------------------------------------------------------------- */

/* Where the n-th walk of a sample goes: the ranges in turn, evenly spread over each. */
static gva_t sample_address(const struct bench *b, unsigned n)
{
    unsigned w = n % b->watches;
    uint64_t steps = b->watch[w].bytes / b->watch[w].step;

    return gva_add(b->watch[w].from, steps * n / SAMPLE_WALKS * b->watch[w].step);
}

/* The guest's own time where it is kept: what exits take is no time in which it walks. */
static uint64_t guest_time(const struct vm *vm)
{
    return vm->paging.cpt ? vm->paging.trace.time : time_now();
}

static enum bench_class class_of(const struct cpt_audit *audit)
{
    if (audit->switched == PAGE_TABLE_LEVELS)
        return BENCH_BY_NESTED;
    return audit->switched ? BENCH_MIXED : BENCH_BY_SHADOW;
}

static void take_sample(struct vcpu *vcpu)
{
    struct bench *b = &vcpu->vm->bench;
    uint64_t references = 0, share[BENCH_CLASSES] = {0};
    unsigned walks = 0;

    for (unsigned n = 0; n < SAMPLE_WALKS; n++) {
        struct cpt_audit audit;
        if (!guest_paging_audit(vcpu, sample_address(b, n), &audit))
            continue;
        walks++;
        references += audit.references;
        share[class_of(&audit)]++;
    }
    if (walks == 0) /* nothing is mapped just now: as before */
        return;
    b->sample_references = references * THOUSAND / walks;
    for (unsigned i = 0; i < BENCH_CLASSES; i++)
        b->sample_share[i] = share[i] * THOUSAND / walks;
}

static void begin_samples(struct vcpu *vcpu)
{
    struct bench *b = &vcpu->vm->bench;

    b->sampled = guest_time(vcpu->vm);
    b->sample_references = b->ticks_sampled = b->references_sampled = 0;
    memset(b->share_sampled, 0, sizeof(b->share_sampled));
    if (b->watches > 0)
        take_sample(vcpu);
}

void bench_sample(struct vcpu *vcpu)
{
    struct bench *b = &vcpu->vm->bench;

    if (b->state != BENCH_RUNNING || b->watches == 0)
        return;
    uint64_t now = guest_time(vcpu->vm);
    uint64_t passed = now - b->sampled;
    if (b->sample_references > 0) {
        b->ticks_sampled += passed;
        b->references_sampled += passed * b->sample_references;
        for (unsigned i = 0; i < BENCH_CLASSES; i++)
            b->share_sampled[i] += passed * b->sample_share[i];
    }
    b->sampled = now;
    take_sample(vcpu);
}

/*
 * What a program touches nobody tells here. Where it is when a timer stops it, and what its
 * registers point to, are pages that it works with: stack, code, the data at hand. What is mapped
 * nowhere is no address.
 */
void bench_timer(struct vcpu *vcpu)
{
    struct bench *b = &vcpu->vm->bench;
    gva_t at[ARCH_ADDRESSES];

    if (b->state != BENCH_RUNNING || !b->by_mark ||
        time_now() - b->sampled < time_hz() / LOOKS_PER_SECOND)
        return;
    b->sampled = time_now();
    unsigned count = arch_vcpu_addresses(vcpu, at);
    for (unsigned i = 0; i < count; i++) {
        struct cpt_audit audit;
        if (!guest_paging_audit(vcpu, at[i], &audit))
            continue;
        b->walks++;
        b->walk_references += audit.references;
        b->ticks_sampled++;
        b->references_sampled += (uint64_t)audit.references * THOUSAND;
        b->share_sampled[class_of(&audit)] += THOUSAND;
    }
    b->audit_ticks += time_now() - b->sampled;
}

/* --- the table -------------------------------------------------------------------------------- */

/* Append to a line of the table, printf style; what does not fit is left out as a whole. */
__attribute__((format(printf, 2, 3))) static void append(char *line, const char *format, ...)
{
    size_t length = strlen(line);
    va_list args;

    va_start(args, format);
    int wanted = vsnprintf(line + length, TABLE_WIDTH + 1 - length, format, args);
    va_end(args);
    if (wanted < 0 || (size_t)wanted > TABLE_WIDTH - length)
        line[length] = '\0';
}

#define HUNDREDTHS(x) (unsigned long long)(x) / CENTS, (unsigned long long)(x) % CENTS

static void print_row(const struct row *row)
{
    char line[TABLE_WIDTH + 1] = "";

    append(line, "%-19s %-6s %-8s %-3s %6llu %6llu.%02llu %4llu.%02llu ", row->name,
           phase_name(row->phase), row->paging, row->ept_page, (unsigned long long)row->ops,
           HUNDREDTHS(row->ticks_per_op), HUNDREDTHS(row->exits_per_op));
    if (row->references)
        append(line, "%2llu.%02llu ", HUNDREDTHS(row->references));
    else
        append(line, "%5s ", "-");
    if (row->cost_known)
        append(line, "%7llu ", (ull)row->cost);
    else
        append(line, "%7s ", "-");
    append(line, "%-2s", row->ok ? "ok" : "NO");
    for (unsigned n = 0; n < TOP_REASONS && row->top[n].per_op > 0; n++)
        append(line, " %s %llu.%02llu", row->top[n].reason, HUNDREDTHS(row->top[n].per_op));
    console_printf("%s\n", line);
}

/* The same rows by the processor's counters, which ran in the guest alone. */
static void print_counters(void)
{
    const struct pmu *pmu = arch_pmu();
    char label[TABLE_WIDTH + 1] = "";

    if (pmu->count == 0) {
        console_printf("performance counters: %s\n\n", pmu->why.text);
        return;
    }
    append(label, "%-19s %-6s %-8s %-3s", "benchmark", "phase", "paging", "ept");
    pmu_print_head(label);
    for (unsigned i = 0; i < row_count; i++) {
        label[0] = '\0';
        append(label, "%-19s %-6s %-8s %-3s", rows[i].name, phase_name(rows[i].phase),
               rows[i].paging, rows[i].ept_page);
        pmu_print_row(pmu, &rows[i].pmu, label, rows[i].ops);
    }
    pmu_print_events(pmu);
    console_printf("\n");
}

void bench_print_table(void)
{
    if (row_count == 0)
        return;
    console_printf("\n%-19s %-6s %-8s %-3s %6s %9s %7s %5s %7s %-2s %s\n", "benchmark", "phase",
                   "paging", "ept", "ops", "ticks/op", "exits", "refs", "cost", "ok",
                   "exits by reason");
    for (unsigned i = 0; i < row_count; i++)
        print_row(&rows[i]);
    if (rows_lost)
        console_printf("... and %u more records, which the table has no room for\n", rows_lost);
    console_printf("\n");
    print_counters();
}

bool bench_any_failed(void)
{
    return any_failed;
}
