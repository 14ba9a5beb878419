/* SPDX-License-Identifier: BSD-2-Clause */
/* See record.h. */
#include "tests/kvm/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "arch/x86_64/vmcs.h"

#define HISTOGRAM "/sys/kernel/tracing/events/kvm/kvm_exit/hist"

#define PAGE_TABLE_LEVELS 4u

typedef unsigned long long ull;

bool record_init(struct record *record, const struct peer_run *run, const struct guest_ram *ram,
                 int vm_stats, int vcpu_stats)
{
    *record = (struct record){.run = run, .ram = ram};
    return counters_open(&record->vm, vm_stats) && counters_open(&record->vcpu, vcpu_stats);
}

/* --- what has been counted so far ------------------------------------------------------------- */

static bool read_histogram(uint64_t hits[REASONS_MAX])
{
    static char text[32 * 1024];
    FILE *file = fopen(HISTOGRAM, "re");
    size_t bytes = 0;

    if (file) {
        bytes = fread(text, 1, sizeof(text) - 1, file);
        fclose(file);
    }
    text[bytes] = '\0';
    if (bytes > 0 && bytes < sizeof(text) - 1 && histogram_parse(text, hits))
        return true;
    fprintf(stderr, "%s: cannot be read as expected\n", HISTOGRAM);
    return false;
}

static void take_snapshot(const struct record *record, struct snapshot *s)
{
    memset(s, 0, sizeof(*s));
    if (!counters_read(&record->vm, s->vm) || !counters_read(&record->vcpu, s->vcpu) ||
        (record->run->traced && !read_histogram(s->hits))) {
        fflush(stdout);
        _exit(EXIT_FAILURE); /* no number is better than a wrong one; it has said why */
    }
}

static uint64_t level_of(const struct record *record, const char *name)
{
    int i = counters_find(&record->vm, name);

    return i < 0 ? 0 : record->end.vm[i];
}

unsigned record_ept_references(uint64_t pages_4k, uint64_t pages_2m, uint64_t pages_1g)
{
    if (pages_2m == 0 && pages_1g == 0)
        return pages_4k ? PAGE_TABLE_LEVELS : 0;
    if (pages_4k == 0 && pages_1g == 0)
        return PAGE_TABLE_LEVELS - 1;
    return pages_4k == 0 && pages_2m == 0 ? PAGE_TABLE_LEVELS - 2 : 0;
}

/* --- the record as JSON ----------------------------------------------------------------------- */

static void print_exits_by(const struct record *record)
{
    const char *separator = "";

    if (!record->run->traced) {
        printf("null");
        return;
    }
    printf("{");
    for (unsigned i = 0; i < REASONS_MAX; i++) {
        uint64_t hits = record->end.hits[i] - record->begin.hits[i];
        if (hits == 0)
            continue;
        const char *name = exit_reason_name(i);
        if (name)
            printf("%s\"%s\": %llu", separator, name, (ull)hits);
        else
            printf("%s\"reason_%u\": %llu", separator, i, (ull)hits);
        separator = ", ";
    }
    printf("}");
}

/* Sums as differences, levels as they are at the end; what is 0 is left out. */
static void print_counters(const struct counters *counters, const uint64_t *begin,
                           const uint64_t *end, const char **separator)
{
    for (unsigned i = 0; i < counters->count; i++) {
        const struct counter *c = &counters->counter[i];
        uint64_t value = c->sums ? end[i] - begin[i] : end[i];
        if (value == 0)
            continue;
        printf("%s\"%s\": %llu", *separator, c->name, (ull)value);
        *separator = ", ";
    }
}

static void print_record(const struct record *record)
{
    const struct peer_run *run = record->run;
    int exits = counters_find(&record->vcpu, "exits");
    const char *separator = "";

    printf("@bench {\"bench\": \"%s\", \"vm\": \"%s\", \"phase\": \"%s\", \"paging\": \"%s\", ",
           record->name, run->settings.name, record->phase == TF_PHASE_STEADY ? "steady" : "warmup",
           run->ept ? "kvm-ept" : "kvm-shadow");
    if (run->ept)
        printf("\"ept_page\": \"%s\", ", run->large_pages ? "2m" : "4k");
    else
        printf("\"ept_page\": null, ");
    printf("\"host_page\": \"%s\", \"vcpus\": 1, \"args\": \"%s\", \"traced\": %s, "
           "\"ops\": %llu, \"ticks\": %llu, \"exits\": %llu, \"exits_by\": ",
           run->large_pages ? "2m" : "4k", run->settings.args, run->traced ? "true" : "false",
           (ull)record->result.ops, (ull)record->result.ticks,
           exits < 0 ? 0ull : (ull)(record->end.vcpu[exits] - record->begin.vcpu[exits]));
    print_exits_by(record);
    printf(", \"walk_refs\": null, \"walk_refs_derived\": ");
    if (record->walks > 0 && record->references_known)
        printf("%.2f", (double)record->references / (double)record->walks);
    else
        printf("null");
    printf(", \"walks_audited\": %llu, \"touches\": %llu, \"kvm\": {", (ull)record->walks,
           (ull)record->result.touches);
    print_counters(&record->vm, record->begin.vm, record->end.vm, &separator);
    print_counters(&record->vcpu, record->begin.vcpu, record->end.vcpu, &separator);
    printf("}, \"ok\": %s}\n", record->result.ok ? "true" : "false");
}

void record_close(struct record *record)
{
    if (record->state == RECORD_IDLE)
        return;
    if (record->state == RECORD_RUNNING) { /* the guest ended, or was ended, in the middle */
        record->result = (struct tf_bench_result){0};
        take_snapshot(record, &record->end);
    }
    print_record(record);
    record->state = RECORD_IDLE;
}

/* --- calls ------------------------------------------------------------------------------------ */

/* As in hv/bench.c: names go into JSON. */
static bool is_name(const char *name)
{
    size_t length = strnlen(name, TF_BENCH_NAME_MAX);

    return length > 0 && length < TF_BENCH_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               length;
}

static uint64_t begin(struct record *record, gpa_t name_at, uint64_t phase)
{
    const char *name = guest_ram_at(record->ram, name_at, TF_BENCH_NAME_MAX);

    if (!name)
        return TF_E_FAULT;
    if (!is_name(name) || phase > TF_PHASE_STEADY)
        return TF_E_VALUE;
    record_close(record);
    memcpy(record->name, name, strlen(name) + 1);
    record->phase = (enum tf_phase)phase;
    record->walks = record->references = 0;
    record->references_known = true;
    record->state = RECORD_RUNNING;
    /* What the host's UART still has to send would interrupt the guest later. */
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    /* Last: the exit that brought the call is counted already, and so is not in the difference. */
    take_snapshot(record, &record->begin);
    return 0;
}

static void drop_one(uint64_t *value, const struct counters *counters, const char *name)
{
    int i = counters_find(counters, name);

    if (i >= 0)
        value[i]--;
}

static uint64_t end(struct record *record, gpa_t result_at)
{
    const struct tf_bench_result *result =
        guest_ram_at(record->ram, result_at, sizeof(struct tf_bench_result));

    if (record->state != RECORD_RUNNING)
        return TF_E_STATE;
    if (!result)
        return TF_E_FAULT;
    take_snapshot(record, &record->end);
    /* This call's own exit */
    drop_one(record->end.vcpu, &record->vcpu, "exits");
    drop_one(record->end.vcpu, &record->vcpu, "io_exits");
    if (record->run->traced)
        record->end.hits[EXIT_IO]--;
    record->result = *result;
    record->state = RECORD_ENDED;
    return 0;
}

/* The guest's tables as they are, and the second dimension as KVM's counters tell its depth. */
struct audit {
    const struct guest_ram *ram;
    unsigned ept_references;
};

static uint64_t audit_read(void *context, gpa_t at, unsigned bytes)
{
    const struct audit *audit = context;
    const void *entry = guest_ram_at(audit->ram, at, bytes);
    uint64_t value = 0;

    if (!entry)
        return ~0ull;
    memcpy(&value, entry, bytes);
    return value;
}

static bool audit_swap(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set)
{
    (void)context, (void)at, (void)bytes, (void)old, (void)set;
    return true; /* not called: the audit does not set A and D */
}

static unsigned audit_nested(void *context, gpa_t at)
{
    (void)at;
    return ((const struct audit *)context)->ept_references;
}

/*
 * References of a TLB miss at an address, from a walk of the guest's tables. With EPT both
 * dimensions. With shadow paging a 4-KiB page of the guest takes 4, all levels of KVM's table, and
 * so does any other while KVM has mapped nothing larger. 0: not known.
 */
static unsigned references_of(const struct record *record, const struct walk_result *found)
{
    uint64_t large = level_of(record, "pages_2m") + level_of(record, "pages_1g");

    if (record->run->ept)
        return found->references;
    return found->level == 1 || large == 0 ? PAGE_TABLE_LEVELS : 0;
}

static uint64_t audit(struct record *record, const uint64_t *argument,
                      const struct walk_registers *registers)
{
    uint64_t from = argument[0], bytes = argument[1], step = argument[2];

    if (record->state != RECORD_ENDED)
        return TF_E_STATE;
    if (step == 0 || bytes / step >= TF_AUDIT_MAX || from + bytes < from)
        return TF_E_VALUE;
    struct audit context = {.ram = record->ram,
                            .ept_references = record_ept_references(level_of(record, "pages_4k"),
                                                                    level_of(record, "pages_2m"),
                                                                    level_of(record, "pages_1g"))};
    const struct walk_memory memory = {&context, audit_read, audit_swap, audit_nested};
    record->references_known &= !record->run->ept || context.ept_references > 0;
    uint64_t count = bytes / step + (bytes % step != 0); /* a sum of steps might wrap */
    for (uint64_t i = 0; i < count; i++) {
        struct walk_result found = walk(&memory, registers, gva(from + i * step), WALK_NO_CHECK);
        if (found.status != WALK_OK)
            return TF_E_FAULT;
        unsigned references = references_of(record, &found);
        record->references_known &= references > 0;
        record->references += references;
        record->walks++;
    }
    return 0;
}

void record_call(struct record *record, gpa_t at, const struct walk_registers *registers)
{
    struct tf_port_call *call = guest_ram_at(record->ram, at, sizeof(*call));

    if (!call)
        return;
    switch (call->number) {
    case TF_CALL_BENCH_BEGIN:
        call->result = begin(record, gpa(call->argument[0]), call->argument[1]);
        return;
    case TF_CALL_BENCH_END:
        call->result = end(record, gpa(call->argument[0]));
        return;
    case TF_CALL_AUDIT:
        call->result = audit(record, call->argument, registers);
        return;
    default:
        call->result = TF_E_CALL;
        return;
    }
}
