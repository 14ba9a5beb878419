/* SPDX-License-Identifier: BSD-2-Clause */
/* See bench.h. */
#include "hv/bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"
#include "hv/paging/walk.h"
#include "hv/vm.h"

#define ROWS_MAX    512u
#define TOP_REASONS 2u /* exits by reason that a row of the table has room for */
#define AUDIT_MAX                                                                                  \
    (1ull << 20) /* addresses of one AUDIT call: a guest must not hold the machine                 \
                  */
#define CENTS       100u
#define TABLE_WIDTH 100u /* columns: what a screen of 800 pixels shows */

_Static_assert(EXIT_REASONS_MAX * sizeof(uint64_t) <= PAGE_SIZE, "one page holds the counters");

/* What the table keeps of a record. Fixed-point numbers are in hundredths. */
struct row {
    char name[TF_BENCH_NAME_MAX];
    const char *paging, *ept_page;
    enum tf_phase phase;
    bool ok;
    uint64_t ops;
    uint64_t ticks_per_op, exits_per_op, references; /* hundredths */
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

static uint64_t total(const uint64_t *exits)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < EXIT_REASONS_MAX; i++)
        sum += exits[i];
    return sum;
}

/* --- a record as JSON ------------------------------------------------------------------------- */

static void print_record(const struct vm *vm)
{
    const struct bench *b = &vm->bench;
    uint64_t references = hundredths(b->walk_references, b->walks);

    console_printf(
        "@bench {\"bench\": \"%s\", \"vm\": \"%s\", \"phase\": \"%s\", \"paging\": \"%s\", "
        "\"ept_page\": \"%s\", \"vcpus\": %u, ",
        b->name, vm->settings->name, phase_name(b->phase), paging_mode_name(vm->settings->paging),
        page_size_name(vm->settings->ept_page), vm->settings->cpus);
    console_printf("\"ops\": %llu, \"ticks\": %llu, \"exits\": %llu, \"exits_by\": ",
                   (unsigned long long)b->result.ops, (unsigned long long)b->result.ticks,
                   (unsigned long long)total(b->exits));
    vm_print_exits(b->exits);
    if (b->walks > 0)
        console_printf(", \"walk_refs\": %llu.%02llu", (unsigned long long)references / CENTS,
                       (unsigned long long)references % CENTS);
    else
        console_printf(", \"walk_refs\": null");
    console_printf(", \"walks_audited\": %llu, \"ok\": %s}\n", (unsigned long long)b->walks,
                   b->result.ok ? "true" : "false");
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

static void keep_row(const struct vm *vm)
{
    const struct bench *b = &vm->bench;

    if (row_count == ROWS_MAX) {
        rows_lost++;
        return;
    }
    struct row *row = &rows[row_count++];
    *row = (struct row){
        .paging = paging_mode_name(vm->settings->paging),
        .ept_page = page_size_name(vm->settings->ept_page),
        .phase = b->phase,
        .ok = b->result.ok != 0,
        .ops = b->result.ops,
        .ticks_per_op = hundredths(b->result.ticks, b->result.ops),
        .exits_per_op = hundredths(total(b->exits), b->result.ops),
        .references = hundredths(b->walk_references, b->walks),
    };
    memcpy(row->name, b->name, sizeof(row->name));
    find_top(row, b->exits, b->result.ops);
}

static void close_record(struct vm *vm)
{
    struct bench *b = &vm->bench;

    if (b->state == BENCH_IDLE)
        return;
    if (b->state == BENCH_RUNNING) { /* the guest ended, or was ended, in the middle */
        for (unsigned i = 0; i < EXIT_REASONS_MAX; i++)
            b->exits[i] = vm->vcpu.exits[i] - b->exits[i];
        b->result = (struct tf_bench_result){0};
    }
    any_failed |= !b->result.ok;
    print_record(vm);
    keep_row(vm);
    b->state = BENCH_IDLE;
}

/* --- hypercalls ------------------------------------------------------------------------------- */

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
    b->walks = 0;
    b->walk_references = 0;
    b->state = BENCH_RUNNING;
    /* BEGIN itself is counted already, END is not yet when it looks: neither is in the difference.
     */
    memcpy(b->exits, vcpu->exits, sizeof(vcpu->exits));
    return 0;
}

uint64_t bench_end(struct vcpu *vcpu, const struct tf_bench_result *result)
{
    struct bench *b = &vcpu->vm->bench;

    if (b->state != BENCH_RUNNING)
        return TF_E_STATE;
    for (unsigned i = 0; i < EXIT_REASONS_MAX; i++)
        b->exits[i] = vcpu->exits[i] - b->exits[i];
    b->exits[arch_exit_hypercall]--; /* this call */
    b->result = *result;
    b->state = BENCH_ENDED;
    return 0;
}

uint64_t bench_audit(struct vcpu *vcpu, gva_t from, uint64_t bytes, uint64_t step)
{
    struct bench *b = &vcpu->vm->bench;
    struct walk_registers registers;
    struct walk_memory memory;

    if (b->state != BENCH_ENDED)
        return TF_E_STATE;
    if (step == 0 || bytes / step > AUDIT_MAX || from.v + bytes < from.v)
        return TF_E_VALUE;
    arch_walk_setup(vcpu, &registers, &memory);
    for (uint64_t offset = 0; offset < bytes; offset += step) {
        struct walk_result result = walk(&memory, &registers, gva_add(from, offset), WALK_NO_CHECK);
        if (result.status != WALK_OK)
            return TF_E_FAULT;
        b->walks++;
        b->walk_references += result.references;
    }
    return 0;
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

    append(line, "%-19s %-6s %-8s %-3s %7llu %7llu.%02llu %4llu.%02llu ", row->name,
           phase_name(row->phase), row->paging, row->ept_page, (unsigned long long)row->ops,
           HUNDREDTHS(row->ticks_per_op), HUNDREDTHS(row->exits_per_op));
    if (row->references)
        append(line, "%2llu.%02llu ", HUNDREDTHS(row->references));
    else
        append(line, "%5s ", "-");
    append(line, "%-4s", row->ok ? "ok" : "FAIL");
    for (unsigned n = 0; n < TOP_REASONS && row->top[n].per_op > 0; n++)
        append(line, " %s %llu.%02llu", row->top[n].reason, HUNDREDTHS(row->top[n].per_op));
    console_printf("%s\n", line);
}

void bench_print_table(void)
{
    if (row_count == 0)
        return;
    console_printf("\n%-19s %-6s %-8s %-3s %7s %10s %7s %5s %-4s %s\n", "benchmark", "phase",
                   "paging", "ept", "ops", "ticks/op", "exits", "refs", "ok", "exits by reason");
    for (unsigned i = 0; i < row_count; i++)
        print_row(&rows[i]);
    if (rows_lost)
        console_printf("... and %u more records, which the table has no room for\n", rows_lost);
    console_printf("\n");
}

bool bench_any_failed(void)
{
    return any_failed;
}
