/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor needs from the processor and the machine. arch/x86_64 and drivers provide it.
 */
#ifndef HV_ARCH_H
#define HV_ARCH_H

#include "hv/types.h"
#include "hv/why.h"

/* Ends the hypervisor: message, registers, symbolised back trace, and the machine stays so (or, in
 * a test, ends with a failing status). For what only our own mistake, or a broken machine, can
 * cause. */
__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *format, ...);

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #condition);                  \
    } while (0)

/* The direct map: every byte of RAM has a fixed virtual address in the hypervisor. */
void *host_ptr(hpa_t at);
hpa_t host_hpa(const void *in_direct_map);

/* Map a device's registers, uncached. `size` in bytes. Never fails short of a panic; never
 * unmapped. */
void *host_map_device(hpa_t at, uint64_t size);

/* Map a framebuffer, write-combining where the processor can; NULL without memory for tables. */
void *host_map_framebuffer(hpa_t at, uint64_t size);

/* The time-stamp counter, and its ticks a second (calibrated at start). */
uint64_t time_now(void);
uint64_t time_hz(void);

/*
 * The processors that run, by index: 0 up to processor_count() - 1, the boot processor first. The
 * count is final once processors_start (arch/x86_64/smp.c) has returned.
 */
unsigned processor_count(void);
unsigned processor_index(void); /* of the one that asks */

/* Interrupt a processor: it leaves its guest or its idle wait. What it shall find then is to be
 * written before; one that runs the hypervisor takes the interrupt when it next idles or enters a
 * guest. */
void processor_kick(unsigned index);

/*
 * Wait with interrupts on until one comes, or until about the TSC reaches `until` (or
 * IDLE_FOR_EVER). May return early, so the caller looks at what it waits for once more. A kick that
 * was sent since the processor last took its interrupts ends the wait at once.
 */
#define IDLE_FOR_EVER (~0ull)
void processor_idle(uint64_t until);

/* In a loop that waits for another processor. */
void processor_relax(void);

/* On the boot processor, again and again: tell of what devices did that they must not. */
void arch_poll_machine(void);

struct vm;
struct vcpu;
struct entry_state;
struct walk_memory;
struct walk_registers;

/* --- a VM's side of the processor ------------------------------------------------------------- */

/*
 * Make the processor's side of a VM whose RAM is loaded: EPT over vm->ram, and its virtual
 * processors, the first of which starts as `entry` has it, while the others wait for SIPI. On
 * failure *why says what is missing; arch_vm_destroy undoes what there is.
 */
bool arch_vm_create(struct vm *vm, const struct entry_state *entry, struct why *why);
void arch_vm_destroy(struct vm *vm);

/*
 * Run the virtual processor on this processor, which is its own, until vcpu_attend says that it is
 * to be left. True: its VM has ended, and nothing of it is in the processor any more.
 */
bool arch_vcpu_run(struct vcpu *vcpu);

/* Put it into the state after INIT (SDM 3A table 9-1); then as SIPI starts it, at `page` << 12 in
 * real-address mode. On its own processor. */
void arch_vcpu_init(struct vcpu *vcpu);
void arch_vcpu_startup(struct vcpu *vcpu, uint8_t page);

/* Forget what this processor has cached of the virtual processor's memory, and walk as the compound
 * page table has it now. */
void arch_vcpu_flush(struct vcpu *vcpu);

/* Inject what is pending at its local APIC if the guest can take it now; else see to it that it
 * exits when it can, or that the processor delivers it. */
void arch_vcpu_inject(struct vcpu *vcpu);

/* Be back, without another exit, when the TSC has reached `at`. */
void arch_vcpu_arm(struct vcpu *vcpu, uint64_t at);

/* 64 random bits; of the processor where it has a source. */
uint64_t arch_random(void);

/*
 * paging = native: the area of physical memory in which images may be linked, false where the
 * firmware left none; the address by which the guest calls what is a hypercall in a VM, 0 if there
 * was no memory for it; and running `vm` to its end, outside VMX operation.
 */
bool arch_native_area(hpa_t *from, hpa_t *to);
uint64_t arch_native_gate(void);
void arch_native_run(struct vm *vm, const struct entry_state *entry);

/* What a compound page table needs of EPT and the processors of `vm`. */
struct cpt_host;
struct cpt_host arch_paging_host(struct vm *vm);

/* Bring what the VM's compound page table counts of time (cpt_collect) up to the exit of `vcpu`. */
void arch_paging_collect(struct vcpu *vcpu);

/* Whether INVLPG can be made to exit: without that no table may go out of sync. */
bool arch_sees_invalidations(void);

/* MAXPHYADDR, and whether 1-GiB pages are there, as guests have them; the largest EPT page, bytes.
 */
unsigned arch_physical_bits(void);
bool arch_has_1g_pages(void);
uint64_t arch_max_ept_page(void);

/* TSC ticks to one of the guests' APIC timers, undivided. */
unsigned arch_apic_ratio(void);

/* Seconds since 1970 by the machine's clock, read at the start. */
uint64_t arch_wall_clock(void);

/* The performance counters that run while guests do, and their state now. */
struct pmu;
struct pmu_reading;
const struct pmu *arch_pmu(void);
void arch_pmu_read(struct pmu_reading *reading);

/* What the virtual processor is doing, for people: registers and the code at its RIP. */
void arch_vcpu_dump(const struct vcpu *vcpu);

/* The name of exit reason `reason` as records spell it ("ept_violation"); NULL if there is none. */
const char *arch_exit_name(unsigned reason);

/* The exit reasons that hypercalls and port accesses have. */
extern const unsigned arch_exit_hypercall, arch_exit_port;

/*
 * The canonical ones among the virtual processor's general registers, stack pointer and instruction
 * pointer, as linear addresses without segment bases. On its own processor. Returns how many.
 */
#define ARCH_ADDRESSES 17u
unsigned arch_vcpu_addresses(const struct vcpu *vcpu, gva_t at[ARCH_ADDRESSES]);

/* The registers and the memory for a walk (hv/paging/walk.h) of the virtual processor's own tables.
 */
void arch_walk_setup(const struct vcpu *vcpu, struct walk_registers *registers,
                     struct walk_memory *memory);

/*
 * Read `len` bytes at the virtual processor's `at` with the rights of supervisor data. False when
 * its tables forbid it. Memory that is no RAM reads as all ones.
 */
bool arch_guest_read(const struct vcpu *vcpu, gva_t at, void *to, uint64_t len);

#endif
