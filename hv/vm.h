/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtual machines and their virtual processors.
 *
 * VMs run one after another, in the order of the settings file, each to its end: a benchmark then
 * has the machine for itself. With `run = together` all start at once and share the processors
 * (sched.h). A VM is made when its turn comes and gives all its memory back when it has ended,
 * which is checked (struct account). With `repeat` all begins anew when the last one has ended.
 *
 * Who may touch what: everything of a VM, its devices and its paging included, is touched by its
 * own virtual processors while they handle exits, under the VM's lock if there are several. Others
 * leave word instead: bits of `attention` or `requests`, and bytes of input, which the virtual
 * processor looks at before it goes on. Making a VM, and what is left when all its virtual
 * processors have left it, is the boot processor's.
 */
#ifndef HV_VM_H
#define HV_VM_H

#include "hv/bench.h"
#include "hv/dev/devices.h"
#include "hv/loader.h"
#include "hv/lock.h"
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
    VM_POWEROFF, /* the guest switched itself off by ACPI */
    VM_RESET,    /* the guest reset itself, or had a triple fault with on_reset = restart */
    VM_TIMEOUT,  /* its time limit passed */
    VM_STOPPED,  /* it did what cannot go on; `why` says what */
    VM_ENDED,    /* a person ended it */
};

struct account;
struct arch_vm;
struct arch_vcpu;

/* What a virtual processor does. */
enum vcpu_activity {
    VCPU_RUNS,
    VCPU_HALTED,     /* by HLT: an interrupt or an NMI wakes it */
    VCPU_WAITS_SIPI, /* as an application processor after INIT */
    VCPU_GONE,       /* it has left its VM for good: nothing of it is in a processor any more */
};

/* Bits of vcpu.attention: what the virtual processor must see to before it goes on. */
#define ATTEND_EVENTS 0x1u /* interrupts, timers, requests, the VM's end or pause, a time slice */
#define ATTEND_FLUSH  0x2u /* forget cached translations, and follow the compound page table */
#define ATTEND_DUMP   0x4u /* print its registers */

struct vcpu {
    uint64_t gpr[16]; /* the guest's general registers while it does not run, by their encoding; RSP
                         is elsewhere. First: the entry code reaches them by offset. */
    struct vm *vm;
    struct arch_vcpu *arch;
    unsigned index;
    struct cpt_cpu cpt;  /* with paging = shadow or compound */
    uint32_t exited;     /* TSC, low half, when the present exit's handling began */
    uint64_t host_ticks; /* TSC ticks of handling exits so far, the present one left out */
    uint64_t exits[EXIT_REASONS_MAX]; /* by reason; counted before the handler runs */

    /* Set by anybody, atomically; the others wait for in_guest to become 0 where they must. */
    uint32_t attention;
    uint32_t in_guest; /* 1 from before the last look at `attention` to the next exit */

    /* The scheduler's (sched.c); of the processor that runs it, but for `next`. */
    unsigned processor;
    struct vcpu *next;     /* in that processor's queue */
    uint64_t ran;          /* TSC ticks it had its processor: the fair share's measure */
    uint64_t slice_end;    /* TSC at which others want the processor; ~0 if none do */
    uint64_t wakes_at;     /* TSC at which it has something to do by itself, as it was found when it
                              was looked at last; ~0: never */
    uint64_t began;        /* TSC at which its present slice began */
    uint64_t wanted_since; /* TSC since which it could run and does not; 0 else */
    uint64_t stolen;       /* TSC ticks it could have run and did not */
    /* Whether it is ever entered between looks (vcpu.c). */
    uint64_t looked;         /* TSC ticks of looks, since exits were counted last */
    uint64_t looked_exits;   /* that were counted then */
    unsigned looked_in_vain; /* how often, one after the other, there was none in between */
    enum vcpu_activity activity;
    bool halted_with_interrupts; /* VCPU_HALTED: RFLAGS.IF was set */
    bool nmi;                    /* one has come and is not injected yet */
    bool shared;                 /* its VM has others: its lock is needed */
    int64_t tsc_adjust;          /* what the guest's writes of IA32_TSC added to the VM's time */
};
_Static_assert(offsetof(struct vcpu, gpr) == 0, "vmentry.S relies on it");

/* How a VM's memory is translated: `paging =` and the policy's keys of the settings file. */
struct paging_choice {
    enum paging_mode mode;
    struct policy_settings policy; /* with compound */
};

/* The compound page table of a VM and the memory that it has (guest_paging.h). */
struct guest_paging {
    struct paging_choice choice; /* that counts now: the settings', until guest_paging_ask */
    /* A change on its way: the boot processor's while is_asked is 0, then virtual processor 0's. */
    struct paging_choice asked;
    uint32_t is_asked;
    struct cpt *cpt; /* NULL with paging = nested */
    struct cpt_memory memory;
    size_t book_pages;
    struct trace trace; /* its times: ticks of the guest's own time, exits left out */
};

/* Bits of vm.requests: what people ask of a running VM. */
#define VM_ASK_STATISTICS   0x01u /* print them */
#define VM_ASK_END          0x02u
#define VM_ASK_RESET        0x04u
#define VM_ASK_POWER_BUTTON 0x08u /* the guest may shut itself down */
#define VM_ASK_MAP          0x10u /* print the map of regions */
#define VM_ASK_PAGING       0x20u /* see to guest_paging_ask's change */

#define VM_INPUT_BYTES 4096u /* a power of two */

/* What came by TF_PORT_MARK of a name that is not complete. */
struct mark {
    char name[TF_BENCH_NAME_MAX];
    unsigned length;
};

#define VM_STATUS_NONE (-1) /* of a guest that told none */

/* RAM is overwritten in pieces, between which others run: a large VM's takes long. */
enum vm_phase {
    VM_LIVES,
    VM_IS_CLEARED, /* before its guest starts */
    VM_IS_WIPED,   /* when it has ended */
};

struct vm {
    const struct vm_settings *settings;
    const struct module_list *modules;
    struct account *account; /* all that it takes of the machine's memory */
    struct guest_ram ram;
    hpa_t ram_base;       /* of the block that holds all RAM, and behind it COMPOUND's nodes */
    uint64_t block_size;  /* bytes of that block: all that the node window shows */
    uint64_t block_used;  /* of it, RAM and nodes: what is behind stays zeros */
    enum vm_phase phase;  /* the boot processor's */
    uint64_t overwritten; /* bytes of the block that this phase has done */
    struct guest_paging paging;
    struct vm_devices devices;
    struct devices_host devices_host;
    struct vcpu *vcpu;   /* vcpu_count of them */
    unsigned vcpu_count; /* one touches the VM without the lock */
    size_t vcpu_pages;
    struct lapic_page *lapic_pages; /* one a virtual processor */
    struct arch_vm *arch;           /* NULL with paging = native */
    struct lock lock;               /* see above */
    enum vm_end end;
    int status;
    struct why why;        /* VM_STOPPED: the reason, for people */
    bool told;             /* the dump of what stopped it is out */
    bool restart;          /* VM_RESET: a person wants it, whatever on_reset says */
    uint64_t started;      /* TSC */
    uint64_t deadline;     /* TSC at which the time limit passes; ~0 without one */
    uint64_t ticks;        /* TSC from start to end */
    uint64_t start_offset; /* added to the TSC it is the VM's time, which starts at 0 */
    uint32_t requests;     /* VM_ASK bits; set by anybody, atomically */
    uint32_t serving;      /* 1: virtual processor 0 has taken some of them, and is at it */
    uint32_t paused;       /* 1: no virtual processor is to run */
    unsigned steps;        /* virtual processors that have a page of tables open */
    /* Keys on their way to the guest: one writes, virtual processor 0 reads. */
    uint32_t input_written, input_read;
    uint8_t input[VM_INPUT_BYTES];
    struct bench bench;
    struct mark mark;
};

/* Run all VMs of `settings`, as often as it says. True when every one ended by itself with status 0
 * or 1, and nothing was lost. */
bool vm_run_all(const struct settings *settings, const struct module_list *modules);

/* Let the VMs that there are come to their ends, and start no other, nor these again. */
void vm_finish_all(void);

/* End the VM now, for a reason that people should hear (printf style); the first end counts. */
__attribute__((format(printf, 2, 3))) void vm_stop(struct vm *vm, const char *format, ...);

/* End the VM now; the first end counts. By its own virtual processors. */
void vm_end(struct vm *vm, enum vm_end end);

/* End the VM if its time limit has passed. */
void vm_check_deadline(struct vm *vm);

/* Take over the end that a device of the VM has seen, if any. */
void vm_check_devices(struct vm *vm);

/* A triple fault: a reset where the settings say so (on_reset = restart), else the end. `why` is a
 * sentence's part. */
__attribute__((format(printf, 2, 3))) void vm_triple_fault(struct vm *vm, const char *why, ...);

/* The VM's time: its TSC, whatever a virtual processor's guest added to its own. */
uint64_t vm_time(const struct vm *vm);

/*
 * See to what `attention` asked for: cached translations, timers, requests, input, interrupts. Runs
 * on the virtual processor's own processor with its VMCS current, under the VM's lock. True: the
 * guest may go on; false: leave it (it waits, its time is up, or its VM has ended or is paused).
 * `timers`: the first time since the guest ran, when timers may expire.
 */
bool vcpu_attend(struct vcpu *vcpu, bool timers);

/* HLT: true when the guest goes on at once, because an event is there. */
bool vcpu_halt(struct vcpu *vcpu, bool interrupts_on);

/* A key for the VM's UART. False when too many wait already: it is lost. */
bool vm_input(struct vm *vm, uint8_t key);

/* Ask something of a running VM, VM_ASK bits. */
void vm_ask(struct vm *vm, uint32_t requests);

/* Whether something that was asked is not done yet. */
bool vm_is_asked(const struct vm *vm);

/* Let its virtual processors stop, or go on, soon. Its time goes on meanwhile. */
void vm_pause(struct vm *vm, bool pause);

/* Have its virtual processors print their registers, each in its turn, paused or not. */
void vm_dump(struct vm *vm);

/* Let all its virtual processors look (its end, a pause, a request). */
void vm_alert(struct vm *vm);

struct vm_known {
    const struct vm_settings *settings;
    struct vm *vm;   /* NULL: not started yet, or over */
    enum vm_end end; /* of `vm`, else how it ended last; VM_RUNNING: it has not been there */
};

/* The n-th VM of the settings file; false behind the last. Boot processor only: it alone makes VMs
 * and does away with them. */
bool vm_known(unsigned n, struct vm_known *known);

/* As records spell it: "exit", "stopped", ... */
const char *vm_end_name(enum vm_end end);

/* Print the member ept_page of a JSON object, and a comma: null where there is no EPT. */
void vm_print_ept_page(const struct vm_settings *s);

/* The sum of EXIT_REASONS_MAX counters. */
uint64_t vm_count_exits(const uint64_t *exits);

/* Exits of all virtual processors by reason, and their sum. */
uint64_t vm_sum_exits(const struct vm *vm, uint64_t exits[EXIT_REASONS_MAX]);

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

/* `vcpu` wrote `value`, of `bytes` bytes, to TF_PORT_MARK. Under the VM's lock. */
void mark_write(struct vcpu *vcpu, unsigned bytes, uint32_t value);

#endif
