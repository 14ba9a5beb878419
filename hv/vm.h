/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtual machines and their virtual processors.
 *
 * VMs run one after another, in the order of the settings file, each to its end: a benchmark then
 * has the machine for itself. A VM is made when its turn comes and gives all its memory back when
 * it has ended.
 */
#ifndef HV_VM_H
#define HV_VM_H

#include "hv/bench.h"
#include "hv/dev/devices.h"
#include "hv/loader.h"
#include "hv/module.h"
#include "hv/paging/compound.h"
#include "hv/settings.h"
#include "hv/types.h"
#include "hv/why.h"

/* More than any processor has; arch_exit_name() names them. */
#define EXIT_REASONS_MAX 80

enum vm_end {
    VM_RUNNING = 0,
    VM_EXITED,   /* the guest wrote to the debug-exit port; `status` is what QEMU would exit with */
    VM_SHUTDOWN, /* the guest wrote "Shutdown" to Bochs' port */
    VM_TIMEOUT,  /* its time limit passed */
    VM_STOPPED,  /* it did what cannot go on; `why` says what */
};

struct arch_vm;
struct arch_vcpu;

struct vcpu {
    uint64_t gpr[16]; /* the guest's general registers while it does not run, by their encoding; RSP
                         is elsewhere. First: the entry code reaches them by offset. */
    struct vm *vm;
    struct arch_vcpu *arch;
    unsigned index;
    struct cpt_cpu cpt;  /* with paging = shadow or compound */
    uint32_t until_look; /* exits until the time limit is looked at again */
    uint32_t exited;     /* TSC, low half, when the present exit's handling began */
    uint64_t host_ticks; /* TSC ticks of handling exits so far, the present one left out */
    uint64_t exits[EXIT_REASONS_MAX]; /* by reason; counted before the handler runs */
};
_Static_assert(offsetof(struct vcpu, gpr) == 0, "vmentry.S relies on it");

/* The compound page table of a VM and the memory that it has (guest_paging.h). */
struct guest_paging {
    struct cpt *cpt; /* NULL with paging = nested */
    struct cpt_memory memory;
    size_t book_pages;
    struct trace trace; /* its times: ticks of the guest's own time, exits left out */
};

struct vm {
    const struct vm_settings *settings;
    struct guest_ram ram;
    hpa_t ram_base;      /* of the block that holds all RAM, and behind it COMPOUND's nodes */
    uint64_t block_size; /* bytes of that block: all that the node window shows */
    struct guest_paging paging;
    struct vm_devices devices;
    struct vcpu vcpu;
    struct arch_vm *arch; /* NULL with paging = native */
    enum vm_end end;
    int status;
    struct why why;    /* VM_STOPPED: the reason, for people */
    uint64_t started;  /* TSC */
    uint64_t deadline; /* TSC at which the time limit passes; ~0 without one */
    uint64_t ticks;    /* TSC from start to end */
    struct bench bench;
};

/* Run all VMs of `settings` in turn. True when every one ended by itself with status 0 or 1. */
bool vm_run_all(const struct settings *settings, const struct module_list *modules);

/* End the VM now, for a reason that people should hear (printf style); the first end counts. */
__attribute__((format(printf, 2, 3))) void vm_stop(struct vm *vm, const char *format, ...);

/* End the VM if its time limit has passed. */
void vm_check_deadline(struct vm *vm);

/* Keys that came on the console while the VM runs: 's' prints its paging statistics and region map.
 */
void vm_check_keys(const struct vm *vm);

/* Take over the end that a device of the VM has seen, if any. */
void vm_check_devices(struct vm *vm);

/* Print the member ept_page of a JSON object, and a comma: null where there is no EPT. */
void vm_print_ept_page(const struct vm_settings *s);

/* The sum of EXIT_REASONS_MAX counters. */
uint64_t vm_count_exits(const uint64_t *exits);

/* Print EXIT_REASONS_MAX counters as a JSON object, by the reasons' names, without those that are
 * 0. */
void vm_print_exits(const uint64_t *exits);

/* Where a hypercall's words are in vcpu.gpr: encodings of RAX, RDX, RSI, RDI. */
enum { CALL_NUMBER = 0, CALL_RESULT = 0, CALL_ARG2 = 2, CALL_ARG1 = 6, CALL_ARG0 = 7 };

/*
 * A hypercall (hv/guest_abi.h) of `vcpu` at CPL 0: number and arguments are in its registers, and
 * the result goes there. Can end nothing but a wish of the guest's own.
 */
void hypercall(struct vcpu *vcpu);

#endif
