/* SPDX-License-Identifier: BSD-2-Clause */
/* See vm.h: the life of VMs, from their settings to their last record. */
#include "hv/vm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/acpi_guest.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/guest_paging.h"
#include "hv/memory.h"
#include "hv/monitor.h"
#include "hv/sched.h"
#include "hv/smbios_guest.h"
#include "hv/watchdog.h"

#define MS_PER_SECOND 1000u
#define NO_DEADLINE   ~0ull
#define STATUS_NONE   (-1)
#define PIECE         MIB(16) /* of RAM that is overwritten at once: 1 or 2 ms */

#define VM_PAGES ((sizeof(struct vm) + PAGE_SIZE - 1) / PAGE_SIZE)

/* The VMs that there are, and what is still to be started. */
static struct {
    const struct settings *settings;
    const struct module_list *modules;
    struct vm *vm[VMS_MAX];
    unsigned count;
    unsigned next;  /* of settings->vm */
    unsigned round; /* from 1: how often settings->vm was begun */
    bool finishing; /* no VM is to start any more */
    bool all_well;
    uint64_t free_before;          /* bytes that are free without VMs */
    unsigned load[PROCESSORS_MAX]; /* virtual processors on each processor */
    enum vm_end ended[VMS_MAX];    /* of settings->vm: how it ended last */
    struct account account[VMS_MAX];
} vms;

/* --- ends ------------------------------------------------------------------------------------- */

static void set_end(struct vm *vm, enum vm_end end, int status)
{
    vm->status = status;
    __atomic_store_n(&vm->end, end, __ATOMIC_RELEASE);
    vm_alert(vm);
}

void vm_end(struct vm *vm, enum vm_end end)
{
    if (vm->end == VM_RUNNING)
        set_end(vm, end, end == VM_POWEROFF || end == VM_RESET ? 0 : STATUS_NONE);
}

void vm_stop(struct vm *vm, const char *format, ...)
{
    va_list args;

    if (vm->end != VM_RUNNING)
        return;
    va_start(args, format);
    vsnprintf(vm->why.text, sizeof(vm->why.text), format, args);
    va_end(args);
    set_end(vm, VM_STOPPED, STATUS_NONE);
}

void vm_triple_fault(struct vm *vm, const char *format, ...)
{
    char text[64];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (vm->settings->on_reset == ON_RESET_RESTART) {
        log_line("%s: triple fault%s", vm->settings->name, text);
        vm_end(vm, VM_RESET);
    } else {
        vm_stop(vm, "triple fault%s", text);
    }
}

void vm_check_deadline(struct vm *vm)
{
    if (vm->end == VM_RUNNING && time_now() >= vm->deadline)
        set_end(vm, VM_TIMEOUT, STATUS_NONE);
}

void vm_check_devices(struct vm *vm)
{
    if (vm->end != VM_RUNNING)
        return;
    switch (vm->devices.end) {
    case DEVICES_RUNNING:
        return;
    case DEVICES_EXITED:
        set_end(vm, VM_EXITED, vm->devices.status);
        return;
    case DEVICES_SHUTDOWN:
        set_end(vm, VM_SHUTDOWN, 0);
        return;
    case DEVICES_POWEROFF:
        set_end(vm, VM_POWEROFF, 0);
        return;
    case DEVICES_RESET:
        set_end(vm, VM_RESET, 0);
        return;
    }
}

const char *vm_end_name(enum vm_end end)
{
    switch (end) {
    case VM_RUNNING:
        return "running";
    case VM_EXITED:
        return "exit";
    case VM_SHUTDOWN:
        return "shutdown";
    case VM_POWEROFF:
        return "poweroff";
    case VM_RESET:
        return "reset";
    case VM_TIMEOUT:
        return "timeout";
    case VM_STOPPED:
        return "stopped";
    case VM_ENDED:
        return "ended";
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

static void print_stats(const struct vm *vm)
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

static void print_end_record(const char *name, enum vm_end end, int status, const char *why)
{
    console_printf("@vm {\"name\": \"%s\", \"end\": \"%s\", \"status\": %d, \"why\": \"", name,
                   vm_end_name(end), status);
    print_json_text(why);
    console_printf("\"}\n");
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
    case VM_ENDED:
        log_line("%s: ended from the console", name);
        break;
    default:
        log_line("%s: ended by itself, %s status %d", name, vm_end_name(vm->end), vm->status);
        break;
    }
    print_end_record(name, vm->end, vm->status, vm->end == VM_STOPPED ? vm->why.text : "");
}

/* What a VM has left behind, with what it had at the most. `lost_nodes` as cpt_lost_nodes. */
static void print_memory(const struct vm_settings *settings, uint32_t lost_nodes)
{
    const struct account *account = &vms.account[settings - vms.settings->vm];
    bool lost = account->bytes != 0 || lost_nodes != 0;

    if (lost)
        log_line("%s: LOST %lld bytes and %u nodes", settings->name, (long long)account->bytes,
                 lost_nodes);
    vms.all_well &= !lost;
    console_printf("@memory {\"vm\": \"%s\", \"round\": %u, \"lost\": %lld, \"lost_nodes\": %u, "
                   "\"most\": %lld, \"free\": %llu, \"others\": %u}\n",
                   settings->name, vms.round, (long long)account->bytes, lost_nodes,
                   (long long)account->most, (unsigned long long)host_frames.free_bytes, vms.count);
}

/* What became of the faults that the VM was given. */
static void print_fault(const struct vm_settings *settings)
{
    bool came;
    uint32_t count = faults_allocations(&came);

    if (settings->fault.wanted)
        console_printf("@fault {\"vm\": \"%s\", \"allocations\": %u, \"failed\": %s}\n",
                       settings->name, count, came ? "true" : "false");
}

/* When no VM is there. */
static void print_round(void)
{
    long long lost = (long long)(vms.free_before - host_frames.free_bytes);

    if (lost != 0)
        log_line("memory: LOST %lld bytes", lost);
    vms.all_well &= lost == 0;
    console_printf("@round {\"round\": %u, \"lost\": %lld, \"free\": %llu, \"least_free\": %llu, "
                   "\"pieces\": %u, \"seconds\": %llu}\n",
                   vms.round, lost, (unsigned long long)host_frames.free_bytes,
                   (unsigned long long)host_frames.least_free, (unsigned)host_frames.extent_count,
                   (unsigned long long)(time_now() / time_hz()));
}

/* --- RAM ---------------------------------------------------------------------------------------
 */

static void begin_phase(struct vm *vm, enum vm_phase phase)
{
    vm->phase = phase;
    vm->overwritten = 0;
}

/* The next piece; true when it was the last. Behind what is used nothing is ever written but the
 * first zeros. */
static bool overwrite_piece(struct vm *vm)
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

static bool is_native(const struct vm *vm)
{
    return vm->settings->paging == PAGING_NATIVE;
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

static void start_clock(struct vm *vm)
{
    uint64_t limit = vm->settings->time_limit_ms;

    vm->started = time_now();
    vm->deadline = NO_DEADLINE;
    if (limit > 0)
        vm->deadline = vm->started + time_hz() / MS_PER_SECOND * limit;
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

static void create_devices(struct vm *vm)
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

/* --- life ------------------------------------------------------------------------------------- */

static bool load(struct vm *vm, struct entry_state *entry, struct why *why)
{
    return load_guest(vm->settings, vm->modules, time_hz(), &vm->ram, entry, why);
}

static bool create_native(struct vm *vm, struct entry_state *entry, struct why *why)
{
    if (!allocate_native_ram(vm, why) || !load(vm, entry, why))
        return false;
    create_devices(vm); /* for its UART's lines */
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
        if (vms.load[p] < vms.load[*processor])
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
        vms.load[v->processor]++;
        vm->vcpu_count++;
    }
    return true;
}

/* As the settings have it, until a person wants it otherwise. */
static void choose_paging(struct vm *vm)
{
    vm->paging.choice = (struct paging_choice){vm->settings->paging, vm->settings->policy};
}

/* What a guest finds in its RAM, which is all zeros, and how it is translated. */
static bool create_guest(struct vm *vm, struct entry_state *entry, struct why *why)
{
    describe_devices(vm); /* an image may lie there: it goes before the tables */
    return load(vm, entry, why) && arch_vm_create(vm, entry, why) && guest_paging_create(vm, why);
}

/* What it needs of the machine, but for what create_guest makes. */
static bool create(struct vm *vm, struct why *why)
{
    if (!create_vcpus(vm, why))
        return false;
    if (!bench_init(&vm->bench))
        return why_set(why, "no memory for counters");
    return is_native(vm) || allocate_ram(vm, why);
}

/* What it held is wiped, not left for whoever gets it next: until then it lies in the direct map.
 */
static void free_ram(struct vm *vm)
{
    hpa_t from, to;

    if (hpa_is_none(vm->ram_base))
        return;
    if (is_native(vm) && arch_native_area(&from, &to))
        host_wipe(host_ptr(from), to.v - from.v);
    if (vm->phase == VM_IS_WIPED)
        host_run_free_wiped(vm->ram_base, vm->block_size);
    else
        host_run_free(vm->ram_base, vm->block_size);
}

static void destroy(struct vm *vm)
{
    bench_finish(vm);
    if (vm->arch)
        arch_vm_destroy(vm);
    guest_paging_destroy(vm);
    devices_destroy(&vm->devices);
    free_ram(vm);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vms.load[vm->vcpu[i].processor]--;
    if (vm->vcpu)
        host_pages_free(vm->vcpu, vm->vcpu_pages);
    if (vm->lapic_pages)
        host_pages_free(vm->lapic_pages, vm->settings->cpus);
    host_pages_free(vm, VM_PAGES);
}

/* True when the guest ended by itself and said that all is well: status 0, or the 1 of a debug exit
 * of 0. */
static bool ended_well(const struct vm *vm)
{
    switch (vm->end) {
    case VM_SHUTDOWN:
    case VM_POWEROFF:
    case VM_RESET:
        return true;
    case VM_EXITED:
        return vm->status == 1;
    default:
        return false;
    }
}

static void log_start(const struct vm_settings *s, bool native)
{
    char cpus[32] = "";

    if (s->cpus > 1)
        snprintf(cpus, sizeof(cpus), ", %u processors", s->cpus);
    log_line("%s: %s %s, %llu MiB%s, paging %s%s%s", s->name, s->image, s->args,
             (unsigned long long)s->memory >> 20, cpus, paging_mode_name(s->paging),
             native ? "" : ", EPT pages up to ", native ? "" : page_size_name(s->ept_page));
}

/* Its virtual processors go into their processors' queues. */
static void let_run(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vm->vcpu[i].activity = i == 0 ? VCPU_RUNS : VCPU_WAITS_SIPI;
        vm->vcpu[i].attention = ATTEND_EVENTS;
    }
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        sched_add(&vm->vcpu[i]);
}

/* A VM for which there is not even a description. */
static void refuse(const struct vm_settings *settings, const char *why)
{
    console_begin();
    log_line("%s: stopped: %s", settings->name, why);
    print_end_record(settings->name, VM_STOPPED, STATUS_NONE, why);
    print_fault(settings);
    print_memory(settings, 0);
    console_end();
    vms.ended[settings - vms.settings->vm] = VM_STOPPED;
    vms.all_well = false;
}

static void run_native(struct vm *vm)
{
    struct entry_state entry;
    struct why why;

    if (!create_native(vm, &entry, &why)) {
        vm_stop(vm, "%s", why.text);
        return;
    }
    start_clock(vm);
    watchdog_rest();
    arch_native_run(vm, &entry);
    watchdog_beat();
}

/* Its RAM is clear: the guest starts, for the first time or after a reset. */
static void bring_up(struct vm *vm)
{
    struct entry_state entry;
    struct why why;

    begin_phase(vm, VM_LIVES);
    if (!create_guest(vm, &entry, &why)) {
        vm_stop(vm, "%s", why.text);
        return;
    }
    if (!vm->started) {
        vm->start_offset = 0 - time_now(); /* its time begins now, and that of its devices */
        create_devices(vm);
    }
    start_clock(vm);
    let_run(vm);
}

static void begin(const struct vm_settings *settings, struct account *account)
{
    struct vm *vm = host_pages_alloc(VM_PAGES);
    struct why why;

    log_start(settings, settings->paging == PAGING_NATIVE);
    if (!vm) {
        refuse(settings, "no memory for the VM's description");
        return;
    }
    vm->settings = settings;
    choose_paging(vm);
    vm->modules = vms.modules;
    vm->account = account;
    vm->ram_base = HPA_NONE;
    vm->start_offset = 0 - time_now();
    vms.vm[vms.count++] = vm;
    if (!create(vm, &why))
        vm_stop(vm, "%s", why.text);
    else if (is_native(vm))
        run_native(vm);
    else
        begin_phase(vm, VM_IS_CLEARED);
}

static void start(const struct vm_settings *settings)
{
    struct account *account = &vms.account[settings - vms.settings->vm];

    *account = (struct account){0};
    memory_account(account);
    if (settings->fault.wanted)
        faults_arm(settings->fault.alloc);
    begin(settings, account);
    memory_account(NULL);
}

static bool has_left(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (__atomic_load_n(&vm->vcpu[i].activity, __ATOMIC_ACQUIRE) != VCPU_GONE)
            return false;
    }
    return vm->end != VM_RUNNING;
}

/* After a reset: RAM and processors are as new; what devices keep without power stays, as the clock
 * with its CMOS RAM and what was written to disks. */
static void restart(struct vm *vm)
{
    arch_vm_destroy(vm);
    guest_paging_destroy(vm);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = &vm->vcpu[i];
        *v = (struct vcpu){.vm = vm,
                           .index = i,
                           .processor = v->processor,
                           .shared = v->shared,
                           .activity = VCPU_GONE};
    }
    vm->end = VM_RUNNING;
    vm->status = 0;
    vm->told = vm->restart = false;
    vm->requests = vm->paused = vm->steps = 0;
    vm->bench = (struct bench){0};
    vm->mark = (struct mark){0};
    choose_paging(vm);
    devices_reset(&vm->devices);
    log_start(vm->settings, false);
    if (!bench_init(&vm->bench))
        vm_stop(vm, "no memory for counters");
    else
        begin_phase(vm, VM_IS_CLEARED);
}

static void give_back(struct vm *vm)
{
    const struct vm_settings *settings = vm->settings;
    uint32_t lost_nodes = vm->paging.cpt ? cpt_lost_nodes(vm->paging.cpt) : 0;
    unsigned i = 0;

    while (vms.vm[i] != vm)
        i++;
    vms.vm[i] = vms.vm[--vms.count];
    destroy(vm);
    print_fault(settings);
    print_memory(settings, lost_nodes);
}

/* All its virtual processors have left it: the last records, and it starts again or goes. */
static void finish(struct vm *vm)
{
    const struct vm_settings *settings = vm->settings;
    bool starts_again = vm->end == VM_RESET && !vms.finishing &&
                        (settings->on_reset == ON_RESET_RESTART || vm->restart);

    for (unsigned i = 0; i < vm->vcpu_count && vm->started; i++)
        sched_remove(&vm->vcpu[i]);
    vm->ticks = vm->started ? time_now() - vm->started : 0;
    console_begin();
    devices_flush(&vm->devices);
    bench_finish(vm);
    print_end(vm);
    if (vm->paging.cpt)
        guest_paging_print(vm);
    print_stats(vm);
    console_end();
    guest_paging_print_trace(vm); /* may be long: others may speak between its records */
    vms.ended[settings - vms.settings->vm] = vm->end;
    if (starts_again) {
        restart(vm);
        return;
    }
    vms.all_well &= ended_well(vm);
    if (is_native(vm) || hpa_is_none(vm->ram_base))
        give_back(vm);
    else
        begin_phase(vm, VM_IS_WIPED);
}

bool vm_known(unsigned n, struct vm_known *known)
{
    if (n >= vms.settings->vm_count)
        return false;
    *known = (struct vm_known){.settings = &vms.settings->vm[n], .end = vms.ended[n]};
    for (unsigned i = 0; i < vms.count; i++) {
        if (vms.vm[i]->settings == known->settings) {
            known->vm = vms.vm[i];
            known->end = __atomic_load_n(&known->vm->end, __ATOMIC_ACQUIRE);
        }
    }
    return true;
}

void vm_finish_all(void)
{
    vms.finishing = true;
}

static unsigned most_at_a_time(void)
{
    if (vms.settings->run == RUN_IN_TURN)
        return 1;
    return vms.settings->side_by_side > 0 ? vms.settings->side_by_side : VMS_MAX;
}

static bool has_more_to_start(void)
{
    return vms.next < vms.settings->vm_count && !vms.finishing;
}

/* All of this round have ended: whether there is another. */
static bool begin_round(void)
{
    print_round();
    if (vms.finishing || vms.round == vms.settings->repeat)
        return false;
    vms.round++;
    vms.next = 0;
    return true;
}

static void finish_ended(void)
{
    for (unsigned n = vms.count;
         n-- > 0;) { /* from the last: one that goes leaves its place to it */
        struct vm *vm = vms.vm[n];
        if (vm->phase == VM_IS_WIPED || !has_left(vm))
            continue;
        memory_account(vm->account);
        finish(vm);
        memory_account(NULL);
    }
}

/* Whether there was a piece to overwrite. */
static bool overwrite_one(void)
{
    for (unsigned i = 0; i < vms.count; i++) {
        struct vm *vm = vms.vm[i];
        if (vm->phase == VM_LIVES)
            continue;
        if (!overwrite_piece(vm))
            return true;
        memory_account(vm->account);
        if (vm->phase == VM_IS_CLEARED)
            bring_up(vm);
        else
            give_back(vm);
        memory_account(NULL);
        return true;
    }
    return false;
}

/* Between slices of the boot processor: what has ended goes, what is next starts. */
static enum manage manage(void)
{
    monitor_poll();
    arch_poll_machine();
    finish_ended();
    bool busy = overwrite_one();
    if (vms.count == 0 && !has_more_to_start() && !begin_round())
        return MANAGE_OVER;
    while (has_more_to_start() && vms.count < most_at_a_time()) {
        start(&vms.settings->vm[vms.next++]);
        busy = true;
    }
    return busy ? MANAGE_BUSY : MANAGE_IDLE;
}

bool vm_run_all(const struct settings *settings, const struct module_list *modules)
{
    vms.settings = settings;
    vms.modules = modules;
    vms.all_well = true;
    vms.round = 1;
    vms.free_before = host_frames.free_bytes;
    frames_mark(&host_frames);
    /* Beside others nobody waits for a console. Alone, and measured, a VM is not to be interrupted
     * for what was printed before. */
    console_hold(settings->run == RUN_TOGETHER);
    sched_run(manage);
    console_hold(false);
    return vms.all_well && !bench_any_failed();
}
