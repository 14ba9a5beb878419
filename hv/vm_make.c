/* SPDX-License-Identifier: BSD-2-Clause */
/* See vm_make.h. */
#include "hv/vm_make.h"

#include <string.h>

#include "hv/acpi_guest.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/guest_paging.h"
#include "hv/memory.h"
#include "hv/sched.h"
#include "hv/smbios_guest.h"

#define PIECE MIB(16) /* of RAM that is overwritten at once: 1 or 2 ms */

static unsigned load_of[PROCESSORS_MAX]; /* virtual processors on each processor */

/* --- RAM ----------------------------------------------------------------------------------------
 */

void vm_begin_phase(struct vm *vm, enum vm_phase phase)
{
    vm->phase = phase;
    vm->overwritten = 0;
}

/* The next piece; true when it was the last. Behind what is used nothing is ever written but the
 * first zeros. */
bool vm_overwrite_piece(struct vm *vm)
{
    bool first = vm->phase == VM_IS_CLEARED && !vm->started;
    uint64_t all = first ? vm->block_size : vm->block_used;
    uint64_t bytes = min_u64(all - vm->overwritten, PIECE);
    void *at = host_ptr(hpa_add(vm->ram_base, vm->overwritten));

    if (vm->phase == VM_IS_CLEARED)
        host_clear(at, bytes);
    else
        host_wipe(at, bytes);
    vm->overwritten += bytes;
    return vm->overwritten == all;
}

/*
 * RAM in one run, aligned to the largest page that it holds, so that EPT can use large pages, with
 * the nodes behind it. It is cleared before the guest starts: nothing that an earlier one left is
 * in it.
 */
static bool allocate_ram(struct vm *vm, struct why *why)
{
    uint64_t sizes[2];
    unsigned count = guest_paging_block_sizes(vm->settings, sizes);

    for (unsigned i = 0; i < count && hpa_is_none(vm->ram_base); i++) {
        uint64_t align = sizes[i] >= PAGE_SIZE_1G ? PAGE_SIZE_1G : PAGE_SIZE_2M;
        vm->block_size = sizes[i];
        vm->ram_base = host_run_alloc(sizes[i], align);
        if (hpa_is_none(vm->ram_base) && align > PAGE_SIZE_2M && i == count - 1) {
            log_line("%s: no RAM run aligned to 1 GiB; 2-MiB pages it is", vm->settings->name);
            vm->ram_base = host_run_alloc(sizes[i], PAGE_SIZE_2M);
        }
    }
    if (hpa_is_none(vm->ram_base))
        return why_set(why,
                       "memory = %llu MiB, but the largest free run of the machine has %llu MiB",
                       (unsigned long long)vm->settings->memory >> 20,
                       (unsigned long long)frames_largest(&host_frames, PAGE_SIZE_2M) >> 20);
    vm->block_used = sizes[count - 1];
    vm->ram = guest_ram_layout(host_ptr(vm->ram_base), vm->settings->memory);
    return true;
}

/* The area for images, and a block: both are where the machine has them. */
static bool allocate_native_ram(struct vm *vm, struct why *why)
{
    hpa_t from, to;

    if (arch_native_gate() == 0)
        return why_set(why, "paging = native: no memory for its call gate");
    if (!arch_native_area(&from, &to))
        return why_set(why,
                       "paging = native: the firmware uses the memory where images are linked");
    vm->block_size = vm->settings->memory;
    vm->ram_base = host_run_alloc(vm->block_size, PAGE_SIZE_2M);
    if (hpa_is_none(vm->ram_base) || vm->ram_base.v < to.v)
        return why_set(why, "memory = %llu MiB: the machine has no such run above its first MiB",
                       (unsigned long long)vm->block_size >> 20);
    host_clear(host_ptr(vm->ram_base), vm->block_size);
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

/* --- devices ---------------------------------------------------------------------------------- */

static uint64_t device_now(void *context)
{
    return vm_time(context);
}

static void device_notify(void *context, unsigned cpu)
{
    struct vm *vm = context;

    sched_attention(&vm->vcpu[cpu], ATTEND_EVENTS);
}

static void device_written(void *context, gpa_t at, uint64_t len)
{
    struct vm *vm = context;

    guest_paging_written(vm, at, len);
}

static uint64_t device_random(void *context)
{
    (void)context;
    return arch_random();
}

static void *page_alloc(void *context)
{
    (void)context;
    return host_pages_alloc(1);
}

static void page_free(void *context, void *page)
{
    (void)context;
    host_pages_free(page, 1);
}

static const struct block_pages disk_pages = {page_alloc, page_free, NULL};

void vm_create_devices(struct vm *vm)
{
    const struct vm_settings *s = vm->settings;

    vm->devices_host = (struct devices_host){
        .context = vm,
        .now = device_now,
        .notify = device_notify,
        .written = device_written,
        .random = device_random,
    };
    struct devices_config config = {
        .name = s->name,
        .output = console_write,
        .cpus = s->cpus,
        .lapic_pages = vm->lapic_pages,
        .tsc_hz = time_hz(),
        .apic_ratio = arch_apic_ratio(),
        .physical_bits = arch_physical_bits(),
        .ram = &vm->ram,
        .host = &vm->devices_host,
        .wall_seconds = arch_wall_clock(),
        .pages = &disk_pages,
        .disks = s->disk_count,
    };
    for (unsigned i = 0; i < s->disk_count; i++) {
        const struct module *image = module_find(vm->modules, s->disk[i].name);
        config.disk[i] =
            (struct devices_disk){image->data, image->size, image->name, s->disk[i].read_only};
    }
    devices_init(&vm->devices, &config);
}

/* The tables that tell a guest of them, before it runs; the loaders keep the place free. */
static void describe_devices(struct vm *vm)
{
    struct acpi_guest tables = {vm->settings->cpus, DEVICE_DISKS + vm->settings->disk_count};
    void *to = guest_plain(guest_ram_at(&vm->ram, gpa(ACPI_GUEST_BASE), ACPI_GUEST_BYTES));

    if (to)
        acpi_guest_build(to, ACPI_GUEST_BYTES, gpa(ACPI_GUEST_BASE), &tables);
    to = guest_plain(guest_ram_at(&vm->ram, gpa(SMBIOS_GUEST_BASE), SMBIOS_GUEST_BYTES));
    if (to)
        smbios_guest_build(to, vm->settings->name);
}

/* --- virtual processors, and all of it -----------------------------------------------------------
 */

static bool load(struct vm *vm, struct entry_state *entry, struct why *why)
{
    return load_guest(vm->settings, vm->modules, time_hz(), &vm->ram, entry, why);
}

bool vm_create_native(struct vm *vm, struct entry_state *entry, struct why *why)
{
    if (!allocate_native_ram(vm, why) || !load(vm, entry, why))
        return false;
    vm_create_devices(vm); /* for its UART's lines */
    if (entry->mode != ENTRY_LONG)
        return why_set(why, "paging = native runs ELF64 images only");
    return true;
}

/* The processor with the fewest virtual processors, unless the settings say which. */
static bool choose_processor(const struct vm_settings *s, unsigned index, unsigned *processor,
                             struct why *why)
{
    int pinned = vm_pinned_to(s, index);

    *processor = 0;
    if (pinned >= 0 && (unsigned)pinned >= processor_count())
        return why_set(why, "pin = %d: the machine's processors go from 0 to %u", pinned,
                       processor_count() - 1);
    if (pinned >= 0) {
        *processor = (unsigned)pinned;
        return true;
    }
    for (unsigned p = 1; p < processor_count(); p++) {
        if (load_of[p] < load_of[*processor])
            *processor = p;
    }
    return true;
}

static bool create_vcpus(struct vm *vm, struct why *why)
{
    unsigned count = vm->settings->cpus;

    vm->vcpu_pages = (count * sizeof(struct vcpu) + PAGE_SIZE - 1) / PAGE_SIZE;
    vm->vcpu = host_pages_alloc(vm->vcpu_pages);
    vm->lapic_pages = host_pages_alloc(count);
    if (!vm->vcpu || !vm->lapic_pages)
        return why_set(why, "no memory for virtual processors");
    for (unsigned i = 0; i < count; i++) {
        struct vcpu *v = &vm->vcpu[i];
        v->vm = vm;
        v->index = i;
        v->shared = count > 1;
        v->activity = VCPU_GONE; /* until it is in a queue */
        if (!choose_processor(vm->settings, i, &v->processor, why))
            return false;
        load_of[v->processor]++;
        vm->vcpu_count++;
    }
    return true;
}

void vm_choose_paging(struct vm *vm)
{
    vm->paging.choice = (struct paging_choice){vm->settings->paging, vm->settings->policy};
}

bool vm_create_guest(struct vm *vm, struct entry_state *entry, struct why *why)
{
    describe_devices(vm); /* an image may lie there: it goes before the tables */
    return load(vm, entry, why) && arch_vm_create(vm, entry, why) && guest_paging_create(vm, why);
}

bool vm_create(struct vm *vm, struct why *why)
{
    if (!create_vcpus(vm, why))
        return false;
    if (!bench_init(&vm->bench))
        return why_set(why, "no memory for counters");
    return vm_is_native(vm) || allocate_ram(vm, why);
}

/* What it held is wiped, not left for whoever gets it next: until then it lies in the direct map.
 */
static void free_ram(struct vm *vm)
{
    hpa_t from, to;

    if (hpa_is_none(vm->ram_base))
        return;
    if (vm_is_native(vm) && arch_native_area(&from, &to))
        host_wipe(host_ptr(from), to.v - from.v);
    if (vm->phase == VM_IS_WIPED)
        host_run_free_wiped(vm->ram_base, vm->block_size);
    else
        host_run_free(vm->ram_base, vm->block_size);
}

void vm_destroy(struct vm *vm)
{
    bench_finish(vm);
    if (vm->arch)
        arch_vm_destroy(vm);
    guest_paging_destroy(vm);
    devices_destroy(&vm->devices);
    free_ram(vm);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        load_of[vm->vcpu[i].processor]--;
    if (vm->vcpu)
        host_pages_free(vm->vcpu, vm->vcpu_pages);
    if (vm->lapic_pages)
        host_pages_free(vm->lapic_pages, vm->settings->cpus);
    host_pages_free(vm, VM_PAGES);
}
