/* SPDX-License-Identifier: BSD-2-Clause */
/* See vm.h: the life of VMs, from their settings to their last record. */
#include "hv/vm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/guest_paging.h"
#include "hv/memory.h"

#define MS_PER_SECOND 1000u
#define NO_DEADLINE   ~0ull
#define STATUS_NONE   (-1)

/* Large and always one at a time: not on a stack. */
static struct vm the_vm;

/* --- ends ------------------------------------------------------------------------------------- */

void vm_stop(struct vm *vm, const char *format, ...)
{
    va_list args;

    if (vm->end != VM_RUNNING)
        return;
    vm->end = VM_STOPPED;
    vm->status = STATUS_NONE;
    va_start(args, format);
    vsnprintf(vm->why.text, sizeof(vm->why.text), format, args);
    va_end(args);
}

void vm_check_deadline(struct vm *vm)
{
    if (vm->end == VM_RUNNING && time_now() >= vm->deadline) {
        vm->end = VM_TIMEOUT;
        vm->status = STATUS_NONE;
    }
}

void vm_check_keys(const struct vm *vm)
{
    int key = console_read();

    if (key == 's')
        guest_paging_print(vm);
    else if (key > ' ')
        log_line("keys: s prints the statistics of the VM that runs");
}

void vm_check_devices(struct vm *vm)
{
    if (vm->end != VM_RUNNING)
        return;
    switch (vm->devices.end) {
    case DEVICES_RUNNING:
        return;
    case DEVICES_EXITED:
        vm->end = VM_EXITED;
        vm->status = vm->devices.status;
        return;
    case DEVICES_SHUTDOWN:
    case DEVICES_POWEROFF:
        vm->end = VM_SHUTDOWN;
        vm->status = 0;
        return;
    case DEVICES_RESET:
        vm_stop(vm, "the guest reset its machine");
        return;
    }
}

static const char *end_name(enum vm_end end)
{
    switch (end) {
    case VM_RUNNING:
        return "running";
    case VM_EXITED:
        return "exit";
    case VM_SHUTDOWN:
        return "shutdown";
    case VM_TIMEOUT:
        return "timeout";
    case VM_STOPPED:
        return "stopped";
    }
    return "?";
}

/* --- records ---------------------------------------------------------------------------------- */

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

static void print_stats(const struct vm *vm)
{
    const struct vm_settings *s = vm->settings;

    console_printf("@stats {\"vm\": \"%s\", \"paging\": \"%s\", ", s->name,
                   paging_mode_name(s->paging));
    vm_print_ept_page(s);
    console_printf("\"memory\": %llu, \"vcpus\": %u, \"ticks\": %llu, \"ticks_per_second\": %llu, ",
                   (unsigned long long)s->memory, s->cpus, (unsigned long long)vm->ticks,
                   (unsigned long long)time_hz());
    console_printf("\"exits\": %llu, \"exits_by\": ",
                   (unsigned long long)vm_count_exits(vm->vcpu.exits));
    vm_print_exits(vm->vcpu.exits);
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

static void print_end(const struct vm *vm)
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
    default:
        log_line("%s: ended by itself, %s status %d", name, end_name(vm->end), vm->status);
        break;
    }
    console_printf("@vm {\"name\": \"%s\", \"end\": \"%s\", \"status\": %d, \"why\": \"", name,
                   end_name(vm->end), vm->status);
    print_json_text(vm->end == VM_STOPPED ? vm->why.text : "");
    console_printf("\"}\n");
}

/* --- life ------------------------------------------------------------------------------------- */

/*
 * RAM in one run, aligned to the largest page that it holds, so that EPT can use large pages, with
 * the nodes behind it. The guest finds zeros in it, and nothing that an earlier one left.
 */
static bool allocate_ram(struct vm *vm, struct why *why)
{
    uint64_t sizes[2];
    unsigned count = guest_paging_block_sizes(vm->settings, sizes);

    for (unsigned i = 0; i < count && hpa_is_none(vm->ram_base); i++) {
        uint64_t align = sizes[i] >= PAGE_SIZE_1G ? PAGE_SIZE_1G : PAGE_SIZE_2M;
        vm->block_size = sizes[i];
        vm->ram_base = frames_alloc(&host_frames, sizes[i], align);
        if (hpa_is_none(vm->ram_base) && align > PAGE_SIZE_2M && i == count - 1) {
            log_line("%s: no RAM run aligned to 1 GiB; 2-MiB pages it is", vm->settings->name);
            vm->ram_base = frames_alloc(&host_frames, sizes[i], PAGE_SIZE_2M);
        }
    }
    if (hpa_is_none(vm->ram_base))
        return why_set(why,
                       "memory = %llu MiB, but the largest free run of the machine has %llu MiB",
                       (unsigned long long)vm->settings->memory >> 20,
                       (unsigned long long)frames_largest(&host_frames, PAGE_SIZE_2M) >> 20);
    memset(host_ptr(vm->ram_base), 0, vm->block_size);
    vm->ram = guest_ram_layout(host_ptr(vm->ram_base), vm->settings->memory);
    return true;
}

static bool is_native(const struct vm *vm)
{
    return vm->settings->paging == PAGING_NATIVE;
}

/* The area for images, and a block: both are where the machine has them. */
static bool allocate_native_ram(struct vm *vm, struct why *why)
{
    hpa_t from, to;

    if (!arch_native_area(&from, &to))
        return why_set(why,
                       "paging = native: the firmware uses the memory where images are linked");
    vm->block_size = vm->settings->memory;
    vm->ram_base = frames_alloc(&host_frames, vm->block_size, PAGE_SIZE_2M);
    if (hpa_is_none(vm->ram_base) || vm->ram_base.v < to.v)
        return why_set(why, "memory = %llu MiB: the machine has no such run above its first MiB",
                       (unsigned long long)vm->block_size >> 20);
    memset(host_ptr(vm->ram_base), 0, vm->block_size);
    memset(host_ptr(from), 0, to.v - from.v);
    vm->ram = (struct guest_ram){
        .host = host_ptr(hpa(0)),
        .low = vm->ram_base.v + vm->block_size,
        .first = from.v,
        .hole = to.v,
        .hole_end = vm->ram_base.v,
        .native_call = arch_native_gate(),
    };
    return true;
}

static void start_clock(struct vm *vm)
{
    uint64_t limit = vm->settings->time_limit_ms;

    vm->started = time_now();
    vm->deadline = NO_DEADLINE;
    if (limit > 0)
        vm->deadline = vm->started + time_hz() / MS_PER_SECOND * limit;
}

static bool load(struct vm *vm, const struct module_list *modules, struct entry_state *entry,
                 struct why *why)
{
    return load_guest(vm->settings, modules, time_hz(), &vm->ram, entry, why);
}

static bool create_native(struct vm *vm, const struct module_list *modules,
                          struct entry_state *entry, struct why *why)
{
    if (!allocate_native_ram(vm, why) || !load(vm, modules, entry, why))
        return false;
    if (entry->mode != ENTRY_LONG)
        return why_set(why, "paging = native runs ELF64 images only");
    return true;
}

static uint64_t guest_now(void *context)
{
    (void)context;
    return time_now();
}

static void notify(void *context, unsigned cpu)
{
    (void)context, (void)cpu;
}

static void written(void *context, gpa_t at, uint64_t len)
{
    (void)context, (void)at, (void)len;
}

static const struct devices_host devices_host = {
    .now = guest_now, .notify = notify, .written = written};

static bool create(struct vm *vm, const struct module_list *modules, struct entry_state *entry,
                   struct why *why)
{
    devices_init(&vm->devices, &(struct devices_config){.name = vm->settings->name,
                                                        .output = console_write,
                                                        .cpus = 1,
                                                        .tsc_hz = time_hz(),
                                                        .apic_ratio = 1,
                                                        .physical_bits = arch_physical_bits(),
                                                        .ram = &vm->ram,
                                                        .host = &devices_host});
    if (!bench_init(&vm->bench))
        return why_set(why, "no memory for counters");
    if (is_native(vm))
        return create_native(vm, modules, entry, why);
    return allocate_ram(vm, why) && load(vm, modules, entry, why) &&
           arch_vm_create(vm, entry, why) && guest_paging_create(vm, why);
}

static void destroy(struct vm *vm)
{
    bench_finish(vm);
    if (vm->arch)
        arch_vm_destroy(vm);
    guest_paging_destroy(vm);
    if (!hpa_is_none(vm->ram_base))
        frames_free(&host_frames, vm->ram_base, vm->block_size);
}

/* True when the guest ended by itself and said that all is well: status 0, or the 1 of a debug exit
 * of 0. */
static bool ended_well(const struct vm *vm)
{
    return (vm->end == VM_SHUTDOWN && vm->status == 0) || (vm->end == VM_EXITED && vm->status == 1);
}

static bool run(struct vm *vm, const struct vm_settings *settings,
                const struct module_list *modules)
{
    memset(vm, 0, sizeof(*vm));
    vm->settings = settings;
    vm->ram_base = HPA_NONE;
    vm->vcpu.vm = vm;
    log_line("%s: %s %s, %llu MiB, paging %s%s%s", settings->name, settings->image, settings->args,
             (unsigned long long)settings->memory >> 20, paging_mode_name(settings->paging),
             is_native(vm) ? "" : ", EPT pages up to ",
             is_native(vm) ? "" : page_size_name(settings->ept_page));

    struct why why;
    struct entry_state entry;
    if (create(vm, modules, &entry, &why)) {
        start_clock(vm);
        if (is_native(vm))
            arch_native_run(vm, &entry);
        else
            arch_vcpu_run(&vm->vcpu);
        vm->ticks = time_now() - vm->started;
        devices_flush(&vm->devices);
        if (vm->end == VM_STOPPED || vm->end == VM_TIMEOUT)
            arch_vcpu_dump(&vm->vcpu);
    } else {
        vm_stop(vm, "%s", why.text);
    }
    bench_finish(vm);
    print_end(vm);
    if (vm->paging.cpt)
        guest_paging_print(vm);
    print_stats(vm);
    guest_paging_print_trace(vm);
    bool well = ended_well(vm);
    destroy(vm);
    return well;
}

bool vm_run_all(const struct settings *settings, const struct module_list *modules)
{
    bool all_well = true;

    for (unsigned i = 0; i < settings->vm_count; i++) {
        uint64_t free_before = host_frames.free_bytes;
        all_well &= run(&the_vm, &settings->vm[i], modules);
        ASSERT(host_frames.free_bytes == free_before);
    }
    return all_well && !bench_any_failed();
}
