/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a virtual processor sees to between two runs of its guest: the VM's time and timers, what
 * people and other processors left for it, interrupts. See vm.h for who may touch what.
 */
#include <stdio.h>

#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/guest_paging.h"
#include "hv/monitor.h"
#include "hv/sched.h"
#include "hv/vm.h"
#include "hv/watchdog.h"

#define NEVER         ~0ull
#define MS_PER_SECOND 1000u
#define TOP_EXITS     6u /* that statistics name */

/* --- time ------------------------------------------------------------------------------------- */

uint64_t vm_time(const struct vm *vm)
{
    return time_now() + vm->start_offset;
}

static uint64_t host_time_of(const struct vm *vm, uint64_t at)
{
    uint64_t began = 0 - vm->start_offset;

    return at > NEVER - began ? NEVER : at + began;
}

static uint64_t wakes_at(const struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;
    uint64_t at = interrupts_next_event(&vm->devices.interrupts, vcpu->index);

    if (vcpu->index > 0)
        return host_time_of(vm, at);
    at = min_u64(at, devices_next_event(&vm->devices));
    return min_u64(host_time_of(vm, at), vm->deadline);
}

/* --- word from others ------------------------------------------------------------------------- */

void vm_alert(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        sched_wake(&vm->vcpu[i], ATTEND_EVENTS);
}

void vm_pause(struct vm *vm, bool pause)
{
    __atomic_store_n(&vm->paused, pause, __ATOMIC_SEQ_CST);
    vm_alert(vm);
}

void vm_dump(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        sched_wake(&vm->vcpu[i], ATTEND_DUMP);
}

void vm_ask(struct vm *vm, uint32_t requests)
{
    __atomic_fetch_or(&vm->requests, requests, __ATOMIC_SEQ_CST);
    sched_wake(&vm->vcpu[0], ATTEND_EVENTS);
}

/* `serving` is set before requests are taken: looked at in this order, none is missed. */
bool vm_is_asked(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (__atomic_load_n(&vm->vcpu[i].attention, __ATOMIC_SEQ_CST) & ATTEND_DUMP)
            return true;
    }
    return __atomic_load_n(&vm->requests, __ATOMIC_SEQ_CST) != 0 ||
           __atomic_load_n(&vm->serving, __ATOMIC_SEQ_CST) != 0 ||
           __atomic_load_n(&vm->paging.is_asked, __ATOMIC_SEQ_CST) != 0;
}

bool vm_input(struct vm *vm, uint8_t key)
{
    uint32_t at = vm->input_written;

    if (at - __atomic_load_n(&vm->input_read, __ATOMIC_ACQUIRE) == VM_INPUT_BYTES)
        return false;
    vm->input[at % VM_INPUT_BYTES] = key;
    __atomic_store_n(&vm->input_written, at + 1, __ATOMIC_RELEASE);
    sched_attention(&vm->vcpu[0], ATTEND_EVENTS);
    return true;
}

static void take_input(struct vm *vm)
{
    uint32_t end = __atomic_load_n(&vm->input_written, __ATOMIC_ACQUIRE);
    uint32_t at = vm->input_read;

    for (; at != end;
         at++) { /* what a queue cannot hold is lost; the UART's says so to the guest */
        char key = (char)vm->input[at % VM_INPUT_BYTES];
        if (vm->settings->keys == KEYS_VIRTIO)
            (void)virtio_console_input(&vm->devices.console, &key, 1);
        else
            (void)uart_device_receive(&vm->devices.uart, (uint8_t)key);
    }
    __atomic_store_n(&vm->input_read, at, __ATOMIC_RELEASE);
}

/* The most frequent reasons, the first of them first. `exits` is used up. */
static void print_top_exits(const char *name, uint64_t exits[EXIT_REASONS_MAX])
{
    char text[TOP_EXITS * 64u] = "none"; /* names have 20 characters at most, numbers too */
    size_t length = 0;

    for (unsigned n = 0; n < TOP_EXITS; n++) {
        unsigned top = 0;
        for (unsigned reason = 1; reason < EXIT_REASONS_MAX; reason++) {
            if (exits[reason] > exits[top])
                top = reason;
        }
        if (exits[top] == 0)
            break;
        length +=
            (size_t)snprintf(text + length, sizeof(text) - length, "%s%s %llu", n > 0 ? ", " : "",
                             arch_exit_name(top), (unsigned long long)exits[top]);
        exits[top] = 0;
    }
    log_line("%s: exits by reason: %s", name, text);
}

static void print_statistics(const struct vm *vm)
{
    const char *name = vm->settings->name;
    uint64_t exits[EXIT_REASONS_MAX];
    uint64_t ms = (time_now() - vm->started) * MS_PER_SECOND / time_hz();

    console_begin();
    log_line("%s: %s, up %llu.%03llu s, %llu exits", name, vm->paused ? "paused" : "running",
             (unsigned long long)(ms / MS_PER_SECOND), (unsigned long long)(ms % MS_PER_SECOND),
             (unsigned long long)vm_sum_exits(vm, exits));
    print_top_exits(name, exits);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        const struct vcpu *v = &vm->vcpu[i];
        log_line(
            "%s: virtual processor %u on processor %u: %llu exits, ran %llu ms, waited for its "
            "processor %llu ms",
            name, i, v->processor, (unsigned long long)vm_count_exits(v->exits),
            (unsigned long long)(v->ran * MS_PER_SECOND / time_hz()),
            (unsigned long long)(v->stolen * MS_PER_SECOND / time_hz()));
    }
    guest_paging_print_counts(vm);
    console_end();
}

static void serve_requests(struct vm *vm)
{
    __atomic_store_n(&vm->serving, 1, __ATOMIC_SEQ_CST);
    uint32_t requests = __atomic_exchange_n(&vm->requests, 0, __ATOMIC_SEQ_CST);

    if (requests & VM_ASK_STATISTICS) {
        if (vm->paging.cpt)
            cpt_collect(vm->paging.cpt, NULL, 0);
        print_statistics(vm);
    }
    if (requests & VM_ASK_MAP)
        guest_paging_print_map(vm);
    if (requests & VM_ASK_POWER_BUTTON)
        devices_power_button(&vm->devices);
    if (requests & VM_ASK_RESET) {
        vm->restart |= vm->end == VM_RUNNING;
        vm_end(vm, VM_RESET);
    }
    if (requests & VM_ASK_END)
        vm_end(vm, VM_ENDED);
    __atomic_store_n(&vm->serving, 0, __ATOMIC_SEQ_CST);
}

/* What is the VM's, and virtual processor 0 does for all. */
static void serve_vm(struct vm *vm, bool timers)
{
    if (vm->requests)
        serve_requests(vm);
    if (__atomic_load_n(&vm->paging.is_asked, __ATOMIC_ACQUIRE))
        guest_paging_change(vm);
    if (vm->input_read != __atomic_load_n(&vm->input_written, __ATOMIC_ACQUIRE))
        take_input(vm);
    if (timers && devices_next_event(&vm->devices) <= vm_time(vm))
        devices_tick(&vm->devices);
    if (devices_have_work(&vm->devices)) {
        devices_work(&vm->devices);
        if (devices_have_work(&vm->devices))
            sched_attention(&vm->vcpu[0], ATTEND_EVENTS);
    }
    vm_check_deadline(vm);
}

/* --- waiting and waking ----------------------------------------------------------------------- */

static bool has_event(struct vcpu *vcpu)
{
    struct interrupts *interrupts = &vcpu->vm->devices.interrupts;

    /* One that waits for SIPI does not get to see it (SDM 3C 25.4.2). */
    if (interrupts_take_nmi(interrupts, vcpu->index) && vcpu->activity != VCPU_WAITS_SIPI)
        vcpu->nmi = true;
    return vcpu->nmi || (vcpu->halted_with_interrupts &&
                         interrupts_pending(interrupts, vcpu->index) != INTERRUPT_NONE);
}

/* With interrupts off an NMI, INIT or a person can still end the wait; of these only another
 * processor of the VM can send the first two. */
static bool can_be_woken(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        const struct vcpu *v = &vm->vcpu[i];
        if (v->activity == VCPU_RUNS || (v->activity == VCPU_HALTED && v->halted_with_interrupts))
            return true;
    }
    return false;
}

bool vcpu_halt(struct vcpu *vcpu, bool interrupts_on)
{
    vcpu->activity = VCPU_HALTED;
    vcpu->halted_with_interrupts = interrupts_on;
    if (has_event(vcpu)) {
        vcpu->activity = VCPU_RUNS;
        return true;
    }
    devices_flush(&vcpu->vm->devices); /* a prompt has no line end */
    if (!can_be_woken(vcpu->vm))
        vm_stop(vcpu->vm, "HLT with nothing that could wake the processor");
    return false;
}

/* INIT and SIPI, SDM 3A 8.4.2: SIPI counts only after INIT. */
static void take_starts(struct vcpu *vcpu)
{
    struct interrupts *interrupts = &vcpu->vm->devices.interrupts;
    enum apic_start start;
    uint8_t page;

    while ((start = interrupts_take_start(interrupts, vcpu->index, &page)) != APIC_START_NONE) {
        if (start == APIC_START_INIT) {
            arch_vcpu_init(vcpu);
            vcpu->nmi = false;
            vcpu->activity = VCPU_WAITS_SIPI;
            if (vcpu->index == 0) /* it would start at its reset vector, where no firmware is */
                vm_end(vcpu->vm, VM_RESET);
        } else if (vcpu->activity == VCPU_WAITS_SIPI) {
            arch_vcpu_startup(vcpu, page);
            vcpu->activity = VCPU_RUNS;
        }
    }
}

static bool has_to_go(const struct vm *vm)
{
    return vm->end != VM_RUNNING || __atomic_load_n(&vm->paused, __ATOMIC_ACQUIRE);
}

/* What the virtual processor did that stopped the VM is the first to come here: it has the lock. */
static void tell_end(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;

    if (vm->told || (vm->end != VM_STOPPED && vm->end != VM_TIMEOUT))
        return;
    vm->told = true;
    devices_flush(&vm->devices);
    arch_vcpu_dump(vcpu);
}

static void dump_asked(const struct vcpu *vcpu)
{
    console_begin();
    devices_flush(&vcpu->vm->devices);
    log_line("%s: virtual processor %u:", vcpu->vm->settings->name, vcpu->index);
    arch_vcpu_dump(vcpu);
    console_end();
}

/*
 * One that could run, is looked at again and again, and never entered: its processor beats, and its
 * guest stands still. As the watchdog's, these are looks that find nothing new, and not an age: one
 * look may be long because the machine stood still.
 */
static void stop_if_never_entered(struct vcpu *vcpu)
{
    uint64_t period = watchdog_period();

    if (vcpu->looked < period)
        return;
    uint64_t exits = vm_count_exits(vcpu->exits);
    vcpu->looked_in_vain = exits == vcpu->looked_exits ? vcpu->looked_in_vain + 1 : 0;
    vcpu->looked_exits = exits;
    vcpu->looked = 0;
    if (vcpu->looked_in_vain == WATCHDOG_LOOKS)
        vm_stop(vcpu->vm, "virtual processor %u was looked at for %llu s and never entered",
                vcpu->index, (unsigned long long)(period * WATCHDOG_LOOKS / time_hz()));
}

static bool attend(struct vcpu *vcpu, bool timers)
{
    struct vm *vm = vcpu->vm;
    struct interrupts *interrupts = &vm->devices.interrupts;
    /* First: what comes from here on is looked at again. */
    uint32_t attention = __atomic_exchange_n(&vcpu->attention, 0, __ATOMIC_SEQ_CST);

    if (vcpu->processor == 0) /* where the boot processor's slices are long, keys are not to wait */
        monitor_poll();
    if (vcpu->index == 0)
        serve_vm(vm, timers);
    if (timers)
        interrupts_tick(interrupts, vcpu->index);
    if (attention & ATTEND_FLUSH)
        arch_vcpu_flush(vcpu);
    if (attention & ATTEND_DUMP)
        dump_asked(vcpu);
    if (!has_to_go(vm))
        take_starts(vcpu);
    if (FAULTS_BUILT && vm->settings->fault.kept_out)
        sched_attention(vcpu, ATTEND_EVENTS);
    stop_if_never_entered(vcpu);
    if (has_to_go(vm)) {
        tell_end(vcpu);
        return false;
    }
    if (has_event(vcpu) && vcpu->activity == VCPU_HALTED)
        vcpu->activity = VCPU_RUNS;
    if (vcpu->activity != VCPU_RUNS || sched_should_yield(vcpu))
        return false;
    arch_vcpu_inject(vcpu);
    return true;
}

bool vcpu_attend(struct vcpu *vcpu, bool timers)
{
    uint64_t began = time_now();

    watchdog_beat();
    watchdog_look();
    bool goes_on = attend(vcpu, timers);
    uint64_t at = wakes_at(vcpu);
    if (vcpu->activity == VCPU_RUNS && !has_to_go(vcpu->vm))
        vcpu->looked += time_now() - began;

    __atomic_store_n(&vcpu->wakes_at, at, __ATOMIC_RELEASE);
    if (goes_on)
        arch_vcpu_arm(vcpu, min_u64(min_u64(at, vcpu->slice_end), sched_looks_again()));
    return goes_on;
}
