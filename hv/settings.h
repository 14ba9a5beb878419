/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The settings file, \twofold\twofold.ini.
 *
 *   ; or # at the start of a line: a comment
 *   [twofold]                 the hypervisor's own settings, optional
 *   at_end = stay             when all VMs have ended: stay | poweroff | reset | bochs | qemu
 *   without = vpid 1g_pages   optional processor features to do without (see `enum feature`)
 *   run = in_turn             VMs one after another, or all at once: in_turn | together
 *   processors = 4            use at most so many of the machine's; default: all
 *   measure = auto            the files' SHA-256 into the TPM: auto (if there is one) | off (nor
 *                             hashed) | required (without it the loader refuses)
 *   mitigations = auto        guards against speculation between VMs: auto | off | all (to test
 *                             them: also those that the processor does not need)
 *   dma_protection = auto     DMA remapping, so that no device writes to memory: auto | off
 *   side_by_side = 2          with run = together: at most so many VMs at a time; default: all
 *   repeat = 1                run all VMs so many times; 0: until a person says `finish`
 *   fail = alloc:N            in builds with FAULTS=1 alone: docs/robustness.md has the words
 *   watchdog = 20s            a processor that gets nowhere for so long is stuck; 0s: no watchdog
 *   kaslr = on                the hypervisor lies at random virtual addresses: on | off
 *
 *   [NAME]                    one VM each, run in the order of the file
 *   image = touch.elf         a module; required
 *   args = pages=4096         the image's command line
 *   module = initrd.img       a module for the guest, with optional arguments; may repeat
 *   disk = root.img ro        a virtio block device over a module; what is written stays in the
 *                             machine's memory, up to the VM's end; ro: read-only; may repeat
 *   memory = 64M              K, M or G; at least 1M
 *   paging = compound         how memory is translated: nested | shadow | compound | native
 *                             (no VM: the image runs on the bare processor, trusted with all of it)
 *   ept_page = 1g             the largest EPT page: 4k | 2m | 1g
 *   shadow_memory = 4M        for nodes; default: a 64th of the memory, at least 8M
 *   policy = cost             of compound paging: cost | threshold | static | shsp
 *   stress = N                debug: a forced change of handling every N exits or so; seed = N
 *   trace = 1024              events that are kept for @trace records; a power of two, or 0
 *   ...                       further keys of the policy: struct policy_settings, docs/paging.md
 *   cpus = 1                  virtual processors, up to 64
 *   pin = 0 1 2               the machine's processors, from 0, that they run on: the first on the
 *                             first, and so on, round and round; default: the scheduler's choice
 *   keys = uart               where a person's keys go: uart | virtio (the virtio console)
 *   on_reset = end            what a triple fault or the guest's own reset does: end | restart
 *   fail = WORD ...           in builds with FAULTS=1 alone, with run = in_turn: alloc:N, stuck,
 *                             kept-out
 *   time_limit = 60s          ms or s of the machine's time; none by default
 *
 * A VM with `paging = native` has one processor, the machine's first, and the machine for itself:
 * it needs cpus = 1 and run = in_turn, and takes no pin, disk or on_reset.
 *
 * Unknown keys and sections, a key twice, bad values and missing modules are errors with a line
 * number. The file has no environment: it is portable, and the loader, the tests and the fuzzer
 * compile it too.
 */
#ifndef HV_SETTINGS_H
#define HV_SETTINGS_H

#include "hv/faults.h"
#include "hv/module.h"
#include "hv/paging/policy.h"
#include "hv/types.h"
#include "hv/why.h"

#define SETTINGS_FILE  "twofold.ini"
#define NAME_MAX_LEN   32 /* with the NUL */
#define VMS_MAX        256
#define VM_MODULES_MAX 8
#define VM_DISKS_MAX   4
#define VCPUS_MAX      64u  /* of a VM */
#define PROCESSORS_MAX 512u /* of the machine, that settings can name */

enum at_end {
    AT_END_STAY,     /* leave the screen as it is and halt */
    AT_END_POWEROFF, /* ACPI S5 */
    AT_END_RESET,    /* ACPI reset register, else the keyboard controller */
    AT_END_BOCHS,    /* port 0x8900: status 0 through the debugger, else "Shutdown" */
    AT_END_QEMU,     /* isa-debug-exit at port 0xf4 */
};

/* Optional processor features that `without` can mask, so that each fall-back can be tried
 * anywhere. */
enum feature {
    FEATURE_VPID,
    FEATURE_PREEMPTION_TIMER,
    FEATURE_UNRESTRICTED_GUEST,
    FEATURE_1G_PAGES, /* EPT pages */
    FEATURE_2M_PAGES, /* EPT pages; without them 1-GiB ones are not used either */
    FEATURE_MONITOR_TRAP_FLAG,
    FEATURE_SMEP, /* of the hypervisor's own tables */
    FEATURE_SMAP,
    FEATURE_X2APIC,
    FEATURE_EPT,
    FEATURE_SHADOW_STACKS, /* of the hypervisor's own */
    FEATURE_PMU,           /* the hypervisor's own use of performance counters */
    FEATURE_TPR_SHADOW,    /* a virtual-APIC page, which the next four need */
    FEATURE_APIC_ACCESS,
    FEATURE_VIRTUAL_X2APIC,
    FEATURE_APIC_REGISTERS,
    FEATURE_VIRTUAL_INTERRUPTS,
    FEATURE_COUNT
};

/* Faults that the hypervisor commits when asked, to show that they are noticed; and other tests.
 * They run instead of guests, and so on any processor. */
enum self_test {
    SELF_TEST_NONE,
    SELF_TEST_PANIC,
    SELF_TEST_NULL,
    SELF_TEST_WRITE_TEXT,
    SELF_TEST_WRITE_RODATA,
    SELF_TEST_EXECUTE_DATA,
    SELF_TEST_STACK_OVERFLOW,
    SELF_TEST_STACK_SMASH,
    SELF_TEST_OTHER_PANICS, /* on the last processor, while the first has the console */
    SELF_TEST_DMA,          /* no fault: a device tries to write to memory */
    SELF_TEST_PROCESSORS,   /* no fault: the processors work, and work together */
};

enum paging_mode {
    PAGING_NESTED,   /* EPT alone */
    PAGING_SHADOW,   /* every root in SHADOW as far as it goes: the faithful baseline */
    PAGING_COMPOUND, /* the policy decides */
    PAGING_NATIVE, /* no VM at all: the image runs on the bare processor, and is trusted with it */
};

/* Guards against what speculation leaks (arch/x86_64/speculation.h). */
enum mitigations {
    MITIGATIONS_AUTO, /* what this processor needs */
    MITIGATIONS_OFF,
    MITIGATIONS_ALL, /* what this processor can do */
};

/* Which VMs run at a time. */
enum run_order {
    RUN_IN_TURN,
    RUN_TOGETHER,
};

/* What the loader does with the files beside these settings, which it measures in any case. */
enum measure {
    MEASURE_AUTO,     /* hashes them, and extends the TPM if there is one */
    MEASURE_OFF,      /* neither, which saves an emulator the time */
    MEASURE_REQUIRED, /* refuses to start what no TPM has taken */
};

enum keys_to {
    KEYS_UART,
    KEYS_VIRTIO,
};

/* What a triple fault does, and a reset that the guest asks for: both are a PC's reset. */
enum on_reset {
    ON_RESET_END,     /* the VM ends */
    ON_RESET_RESTART, /* its image is loaded anew, and it starts again */
};

struct vm_module {
    char name[64];  /* of the module on the EFI partition */
    char args[128]; /* the rest of the line */
};

struct vm_disk {
    char name[64];  /* of the module on the EFI partition */
    bool read_only; /* else writes go to a copy in RAM that ends with the VM */
};

struct vm_settings {
    char name[NAME_MAX_LEN]; /* letters, digits, '-', '_', '.' */
    unsigned line;           /* of the section's header */
    char image[64];
    char args[1024];
    struct vm_module module[VM_MODULES_MAX];
    unsigned module_count;
    struct vm_disk disk[VM_DISKS_MAX];
    unsigned disk_count;
    uint64_t memory; /* bytes, a multiple of 4 KiB; default 64 MiB */
    enum paging_mode paging;
    uint64_t ept_page;      /* PAGE_SIZE, PAGE_SIZE_2M or PAGE_SIZE_1G; default PAGE_SIZE_1G */
    uint64_t shadow_memory; /* bytes of nodes, a multiple of 2 MiB; 0: the default */
    struct policy_settings policy;
    uint64_t interval_us; /* of the profiler */
    uint32_t stress;      /* 0: none */
    uint64_t seed;
    uint32_t trace; /* events that the trace keeps: a power of two, or 0 */
    unsigned cpus;
    uint16_t pin[VCPUS_MAX]; /* host processor indices; see vm_pinned_to */
    unsigned pin_count;      /* 0: not pinned */
    enum on_reset on_reset;
    enum keys_to keys;
    uint64_t time_limit_ms; /* 0: none */
    struct fault_of_vm fault;
};

struct settings {
    enum at_end at_end;
    uint64_t without; /* bit n: enum feature n */
    enum self_test self_test;
    enum run_order run;
    enum measure measure;
    enum mitigations mitigations;
    bool dma_protection;
    unsigned processors;   /* at most; 0: all */
    uint32_t side_by_side; /* VMs at a time with RUN_TOGETHER; 0: all */
    uint32_t repeat;       /* 0: for ever */
    unsigned watchdog_s;   /* seconds; 0: none */
    struct fault_plan fail;
    bool kaslr;
    struct vm_settings vm[VMS_MAX];
    unsigned vm_count;
};

/*
 * Parse `len` bytes at `text`. `modules` are the files that `image` and `module` may name. On
 * failure *why starts with "twofold.ini:LINE: ". *out is then undefined. No VM at all is an error.
 */
bool settings_parse(const char *text, size_t len, const struct module_list *modules,
                    struct settings *out, struct why *why);

/*
 * Set one of the policy's numbers by the key that the settings file has for it. False with *why
 * when there is no such key, or the value is none of its values. settings_policy_key: the n-th such
 * key, NULL behind the last.
 */
bool settings_set_policy(struct policy_settings *policy, const char *key, const char *value,
                         struct why *why);
const char *settings_policy_key(unsigned n);

/* By their spelling; -1 if it is none. */
int paging_mode_of(const char *name);
int policy_kind_of(const char *name);

/* The index of the host processor that virtual processor `cpu` of the VM is pinned to, or -1. */
int vm_pinned_to(const struct vm_settings *vm, unsigned cpu);

/* The spelling of a value in the settings file, for messages and records. */
const char *paging_mode_name(enum paging_mode mode);
const char *page_size_name(uint64_t bytes); /* "4k", "2m", "1g" */
const char *feature_name(enum feature feature);

#endif
