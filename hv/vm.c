/* SPDX-License-Identifier: BSD-2-Clause */
/* See vm.h: a VM's end, which the first reason for it sets. */
#include "hv/vm.h"

#include <stdarg.h>
#include <stdio.h>

#include "hv/arch.h"
#include "hv/console.h"

static void set_end(struct vm *vm, enum vm_end end, int status)
{
    vm->status = status;
    __atomic_store_n(&vm->end, end, __ATOMIC_RELEASE);
    vm_alert(vm);
}

void vm_end(struct vm *vm, enum vm_end end)
{
    if (vm->end == VM_RUNNING)
        set_end(vm, end, end == VM_POWEROFF || end == VM_RESET ? 0 : VM_STATUS_NONE);
}

void vm_stop(struct vm *vm, const char *format, ...)
{
    va_list args;

    if (vm->end != VM_RUNNING)
        return;
    va_start(args, format);
    vsnprintf(vm->why.text, sizeof(vm->why.text), format, args);
    va_end(args);
    set_end(vm, VM_STOPPED, VM_STATUS_NONE);
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
        set_end(vm, VM_TIMEOUT, VM_STATUS_NONE);
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
