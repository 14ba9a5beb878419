/* SPDX-License-Identifier: BSD-2-Clause */
/* The lives of VMs: which there are, when they start, start again, and go. By the boot processor.
 */
#include <stdio.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/guest_paging.h"
#include "hv/memory.h"
#include "hv/monitor.h"
#include "hv/sched.h"
#include "hv/vm_make.h"
#include "hv/vm_records.h"
#include "hv/watchdog.h"

#define MS_PER_SECOND 1000u
#define NO_DEADLINE   ~0ull

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
    uint64_t free_before;       /* bytes that are free without VMs */
    enum vm_end ended[VMS_MAX]; /* of settings->vm: how it ended last */
    struct account account[VMS_MAX];
} vms;

static void print_memory(const struct vm_settings *settings, uint32_t lost_nodes)
{
    const struct account *account = &vms.account[settings - vms.settings->vm];

    vms.all_well &= account->bytes == 0 && lost_nodes == 0;
    vm_print_memory(settings, account, lost_nodes, vms.round, vms.count);
}

static void print_round(void)
{
    int64_t lost = (int64_t)(vms.free_before - host_frames.free_bytes);

    vms.all_well &= lost == 0;
    vm_print_round(vms.round, lost);
}

static void start_clock(struct vm *vm)
{
    uint64_t limit = vm->settings->time_limit_ms;

    vm->started = time_now();
    vm->deadline = NO_DEADLINE;
    if (limit > 0)
        vm->deadline = vm->started + time_hz() / MS_PER_SECOND * limit;
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
    vm_print_end_record(settings->name, VM_STOPPED, VM_STATUS_NONE, why);
    vm_print_fault(settings);
    print_memory(settings, 0);
    console_end();
    vms.ended[settings - vms.settings->vm] = VM_STOPPED;
    vms.all_well = false;
}

static void run_native(struct vm *vm)
{
    struct entry_state entry;
    struct why why;

    if (!vm_create_native(vm, &entry, &why)) {
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

    vm_begin_phase(vm, VM_LIVES);
    if (!vm_create_guest(vm, &entry, &why)) {
        vm_stop(vm, "%s", why.text);
        return;
    }
    if (!vm->started) {
        vm->start_offset = 0 - time_now(); /* its time begins now, and that of its devices */
        vm_create_devices(vm);
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
    vm_choose_paging(vm);
    vm->modules = vms.modules;
    vm->account = account;
    vm->ram_base = HPA_NONE;
    vm->start_offset = 0 - time_now();
    vms.vm[vms.count++] = vm;
    if (!vm_create(vm, &why))
        vm_stop(vm, "%s", why.text);
    else if (vm_is_native(vm))
        run_native(vm);
    else
        vm_begin_phase(vm, VM_IS_CLEARED);
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
    vm_choose_paging(vm);
    devices_reset(&vm->devices);
    log_start(vm->settings, false);
    if (!bench_init(&vm->bench))
        vm_stop(vm, "no memory for counters");
    else
        vm_begin_phase(vm, VM_IS_CLEARED);
}

static void give_back(struct vm *vm)
{
    const struct vm_settings *settings = vm->settings;
    uint32_t lost_nodes = vm->paging.cpt ? cpt_lost_nodes(vm->paging.cpt) : 0;
    unsigned i = 0;

    while (vms.vm[i] != vm)
        i++;
    vms.vm[i] = vms.vm[--vms.count];
    vm_destroy(vm);
    vm_print_fault(settings);
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
    if (vm->paging.cpt)
        cpt_collect(vm->paging.cpt, NULL, 0);
    console_begin();
    devices_flush(&vm->devices);
    bench_finish(vm);
    vm_print_end(vm);
    if (vm->paging.cpt)
        guest_paging_print(vm);
    vm_print_stats(vm);
    console_end();
    guest_paging_print_trace(vm); /* may be long: others may speak between its records */
    vms.ended[settings - vms.settings->vm] = vm->end;
    if (starts_again) {
        restart(vm);
        return;
    }
    vms.all_well &= ended_well(vm);
    if (vm_is_native(vm) || hpa_is_none(vm->ram_base))
        give_back(vm);
    else
        vm_begin_phase(vm, VM_IS_WIPED);
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
        if (!vm_overwrite_piece(vm))
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
