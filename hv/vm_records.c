/* SPDX-License-Identifier: BSD-2-Clause */
/* See vm_records.h. */
#include "hv/vm_records.h"

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/guest_paging.h"

void vm_print_exits(const uint64_t *exits)
{
    const char *separator = "";

    console_printf("{");
    for (unsigned i = 0; i < EXIT_REASONS_MAX; i++) {
        if (exits[i] == 0)
            continue;
        console_printf("%s\"%s\": %llu", separator, arch_exit_name(i),
                       (unsigned long long)exits[i]);
        separator = ", ";
    }
    console_printf("}");
}

void vm_print_ept_page(const struct vm_settings *s)
{
    if (s->paging == PAGING_NATIVE)
        console_printf("\"ept_page\": null, ");
    else
        console_printf("\"ept_page\": \"%s\", ", page_size_name(s->ept_page));
}

uint64_t vm_count_exits(const uint64_t *exits)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < EXIT_REASONS_MAX; i++)
        sum += exits[i];
    return sum;
}

uint64_t vm_sum_exits(const struct vm *vm, uint64_t exits[EXIT_REASONS_MAX])
{
    for (unsigned reason = 0; reason < EXIT_REASONS_MAX; reason++) {
        exits[reason] = 0;
        for (unsigned i = 0; i < vm->vcpu_count; i++)
            exits[reason] += vm->vcpu[i].exits[reason];
    }
    return vm_count_exits(exits);
}

static uint64_t stolen_ticks(const struct vm *vm)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < vm->vcpu_count; i++)
        sum += vm->vcpu[i].stolen;
    return sum;
}

void vm_print_stats(const struct vm *vm)
{
    const struct vm_settings *s = vm->settings;
    uint64_t exits[EXIT_REASONS_MAX];

    console_printf("@stats {\"vm\": \"%s\", \"paging\": \"%s\", ", s->name,
                   paging_mode_name(vm->paging.choice.mode));
    vm_print_ept_page(s);
    console_printf("\"memory\": %llu, \"vcpus\": %u, \"ticks\": %llu, \"ticks_per_second\": %llu, "
                   "\"steal_ticks\": %llu, ",
                   (unsigned long long)s->memory, s->cpus, (unsigned long long)vm->ticks,
                   (unsigned long long)time_hz(), (unsigned long long)stolen_ticks(vm));
    console_printf("\"exits\": %llu, \"exits_by\": ", (unsigned long long)vm_sum_exits(vm, exits));
    vm_print_exits(exits);
    guest_paging_print_json(vm);
    console_printf("}\n");
}

/* `why` comes from our own texts and from names in the settings file, so that only quotes need
 * care. */
static void print_json_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            console_write("\\", 1);
        console_write(*text >= ' ' ? text : "?", 1);
    }
}

void vm_print_end_record(const char *name, enum vm_end end, int status, const char *why)
{
    console_printf("@vm {\"name\": \"%s\", \"end\": \"%s\", \"status\": %d, \"why\": \"", name,
                   vm_end_name(end), status);
    print_json_text(why);
    console_printf("\"}\n");
}

void vm_print_end(const struct vm *vm)
{
    const char *name = vm->settings->name;

    switch (vm->end) {
    case VM_STOPPED:
        log_line("%s: stopped: %s", name, vm->why.text);
        break;
    case VM_TIMEOUT:
        log_line("%s: ended by its time limit of %llu ms", name,
                 (unsigned long long)vm->settings->time_limit_ms);
        break;
    case VM_ENDED:
        log_line("%s: ended from the console", name);
        break;
    default:
        log_line("%s: ended by itself, %s status %d", name, vm_end_name(vm->end), vm->status);
        break;
    }
    vm_print_end_record(name, vm->end, vm->status, vm->end == VM_STOPPED ? vm->why.text : "");
}

void vm_print_memory(const struct vm_settings *settings, const struct account *account,
                     uint32_t lost_nodes, unsigned round, unsigned others)
{
    if (account->bytes != 0 || lost_nodes != 0)
        log_line("%s: LOST %lld bytes and %u nodes", settings->name, (long long)account->bytes,
                 lost_nodes);
    console_printf("@memory {\"vm\": \"%s\", \"round\": %u, \"lost\": %lld, \"lost_nodes\": %u, "
                   "\"most\": %lld, \"free\": %llu, \"others\": %u}\n",
                   settings->name, round, (long long)account->bytes, lost_nodes,
                   (long long)account->most, (unsigned long long)host_frames.free_bytes, others);
}

void vm_print_fault(const struct vm_settings *settings)
{
    bool came;
    uint32_t count = faults_allocations(&came);

    if (settings->fault.wanted)
        console_printf("@fault {\"vm\": \"%s\", \"allocations\": %u, \"failed\": %s}\n",
                       settings->name, count, came ? "true" : "false");
}

void vm_print_round(unsigned round, int64_t lost)
{
    if (lost != 0)
        log_line("memory: LOST %lld bytes", (long long)lost);
    console_printf("@round {\"round\": %u, \"lost\": %lld, \"free\": %llu, \"least_free\": %llu, "
                   "\"pieces\": %u, \"seconds\": %llu}\n",
                   round, (long long)lost, (unsigned long long)host_frames.free_bytes,
                   (unsigned long long)host_frames.least_free, (unsigned)host_frames.extent_count,
                   (unsigned long long)(time_now() / time_hz()));
}
