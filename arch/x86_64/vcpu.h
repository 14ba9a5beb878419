/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's side of VMs and virtual processors.
 *
 * State that VT-x does not switch (general registers aside: x87 to AVX-512 state, XCR0, the SYSCALL
 * MSRs, CR2, DR0 to DR3, DR6, TSC_AUX) is the guest's as long as its virtual processor is loaded:
 * the hypervisor uses none of it, so an exit saves nothing but the general registers.
 */
#ifndef ARCH_VCPU_H
#define ARCH_VCPU_H

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/vmcs.h"
#include "arch/x86_64/vmx.h"
#include "hv/ptab.h"
#include "hv/vm.h"

/* EPT entries, SDM 3C tables 28-1 to 28-6 */
#define EPT_READ      BIT(0)
#define EPT_WRITE     BIT(1)
#define EPT_EXECUTE   BIT(2)
#define EPT_RWX       (EPT_READ | EPT_WRITE | EPT_EXECUTE)
#define EPT_MEMORY_WB (6ull << 3)

struct arch_vm {
    struct ptab ept;
    uint64_t eptp;
    void *msr_bitmap;
    void *x2apic_msr_bitmap; /* while x2APIC mode is virtualised; NULL where it cannot be */
    void *apic_access_page;  /* NULL where accesses cannot be virtualised */
    bool apic_access_mapped;
    bool apic_access_refused;   /* for good */
    struct recent_code *recent; /* exit_table.c: instructions that were decoded lately */
    /* With a compound page table: write-protected pages in each 2 MiB of RAM, and whether some were
     * let go, so that a large page may be had again. */
    uint16_t *protected_pages;
    size_t protected_pages_pages;
    bool may_merge;
};

/* What of the guest lies in the processor while its virtual processor is loaded, and here while
 * not. */
struct guest_context {
    uint64_t cr2, dr[4], dr6;
    uint64_t xcr0;
    uint64_t star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
    void *fpu; /* XSAVE or FXSAVE area, page aligned */
};

#define EXCEPTIONS_ALWAYS (BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC))

/* A step through an instruction that stores to write-protected tables (step.c). */
struct step {
    bool active;
    bool trap_flag; /* the guest's own TF */
    unsigned pages;
    gpa_t page[4]; /* that are open */
};

/* Memory-type range registers: kept for the guest, and without effect, since EPT says what type RAM
 * has (SDM 3C 28.3.7.2). */
#define MTRR_VARIABLE 8u
#define MTRR_FIXED    11u
struct guest_mtrrs {
    uint64_t def_type;
    uint64_t fixed[MTRR_FIXED];
    uint64_t base[MTRR_VARIABLE], mask[MTRR_VARIABLE];
};

#define EOI_EXIT_BITMAPS 4u /* of 64 vectors */

#define NO_GAP ~0ull /* least_gap before there was an exit */

struct arch_vcpu {
    void *vmcs;
    bool loaded; /* on its processor, at least once */
    bool launched;
    uint16_t vpid;          /* 0 without VPID */
    bool interrupt_window;  /* an exit is wanted when the guest can take an interrupt, */
    bool nmi_window;        /* or an NMI */
    uint64_t wake_at;       /* TSC at which it must attend to its timers */
    enum cpt_state state;   /* as the VMCS has it */
    uint32_t proc;          /* controls, as the VMCS has them */
    uint32_t exceptions;    /* exception bitmap, likewise */
    uint32_t apic_controls; /* of the secondary ones, for its local APIC's state */
    uint8_t tpr_threshold;  /* as the VMCS has it, */
    uint64_t eoi_exits[EOI_EXIT_BITMAPS]; /* and so these */
    bool watches;                         /* the guest's invalidations exit */
    uint64_t root_changes;                /* that the CR3-target values know of */
    /* The profiler's clock is the guest's own time: what exits take is left out. */
    uint64_t guest_ticks;      /* up to the last exit */
    uint64_t entered;          /* TSC of the last entry */
    uint64_t least_gap;        /* ticks that entry and exit alone take: the least that was seen */
    uint64_t next_look;        /* guest_ticks at which the profiler looks again */
    uint64_t handling_changes; /* that the benchmark's samples know of */
    struct step step;
    unsigned unknown_msr_lines; /* in the log so far */
    struct guest_mtrrs mtrrs;
    struct guest_context context;
};

/* ept.c */
bool ept_create(struct vm *vm, struct why *why);
void ept_destroy(struct vm *vm);
/* References that one access to `at` takes in the VM's EPT: entries read down to the leaf. */
unsigned ept_references(const struct vm *vm, gpa_t at);
/* Forget all that this processor has cached of the VM's EPT, SDM 3C 28.4.3.1. */
void ept_invalidate(const struct vm *vm);
/* Take away or give back the right to write a page of RAM. False without memory to split a larger
 * page. Does not invalidate. */
bool ept_protect(struct vm *vm, gpa_t page, bool protect);
/* Make large pages of those whose last protected page was let go. Invalidates what it must. */
void ept_merge(struct vm *vm);

/* vcpu.c: on all processors that run the VM, forget all that is cached of its memory. Returns when
 * none of them can use it any more; none of its virtual processors enters its guest again before
 * the VM's lock, which the caller holds, is released. */
void vm_invalidate(struct vm *vm);

/* paging.c: the compound page table's part of a virtual processor */
/* The guest's CR3, whatever the processor's holds. */
uint64_t guest_cr3(const struct vcpu *vcpu);
/* The guest's CR0, CR3, CR4 or EFER changed: how it walks follows. */
void paging_registers_changed(struct vcpu *vcpu, uint64_t cr3);
/* A MOV to CR3 in long mode, nothing else: pcid is CR4.PCIDE. */
void paging_cr3_loaded(struct vcpu *vcpu, uint64_t cr3, bool pcid);
/* The guest may have loaded another root without an exit: take it over. */
void paging_catch_up_now(struct vcpu *vcpu, uint64_t cr3);
static inline void paging_catch_up(struct vcpu *vcpu)
{
    uint64_t cr3 = vmread(VMCS_GUEST_CR3);

    if (cr3 != vcpu->cpt.node_cr3)
        paging_catch_up_now(vcpu, cr3);
}
/* Something was done to the compound page table: let the VMCS follow. */
void paging_follow_now(struct vcpu *vcpu);
static inline void paging_follow(struct vcpu *vcpu)
{
    const struct cpt_head *head = cpt_head(vcpu->vm->paging.cpt);

    if (vcpu->cpt.generation != head->generation || vcpu->arch->handling_changes != head->changes)
        paging_follow_now(vcpu);
}
/* The fast way of paging_cr3_loaded, for a root that was loaded lately and is walked as the present
 * one. */
static inline bool paging_load_recent(struct vcpu *vcpu, uint64_t cr3)
{
    const struct arch_vcpu *arch = vcpu->arch;

    if (arch->step.active || cpt_recent(&vcpu->cpt, cr3)->state != arch->state ||
        !cpt_load_recent(vcpu->vm->paging.cpt, &vcpu->cpt, cr3, arch->guest_ticks))
        return false;
    vmwrite(VMCS_GUEST_CR3, vcpu->cpt.node_cr3);
    return true;
}
/* The guest makes the processor forget all that it has cached of its tables, otherwise than by a
 * MOV to CR3. */
void paging_invalidated(struct vcpu *vcpu);
/* The virtual processor gets, or has had, its processor for a while. */
void paging_begin_slice(struct vcpu *vcpu);
void paging_end_slice(struct vcpu *vcpu);
/* An interval has ended, or a forced change may be due. */
void paging_tick(struct vcpu *vcpu);

/* At the begin and the end of every exit, `now` by the TSC: the guest's time, and what is due. */
static inline void paging_begin_exit(struct vcpu *vcpu, uint64_t now, bool shared)
{
    uint64_t gap = now - vcpu->arch->entered;

    if (gap < vcpu->arch->least_gap)
        vcpu->arch->least_gap = gap;
    vcpu->arch->guest_ticks += gap - vcpu->arch->least_gap;
    if (!shared || vcpu->vm->paging.trace.time < vcpu->arch->guest_ticks) /* each has its clock */
        vcpu->vm->paging.trace.time = vcpu->arch->guest_ticks;
}

static inline uint64_t paging_end_exit(struct vcpu *vcpu)
{
    if (vcpu->arch->guest_ticks >= vcpu->arch->next_look)
        paging_tick(vcpu);
    return vcpu->arch->entered = rdtsc();
}

/* Set the VMCS's controls, for the state of the walks and a step. */
void paging_set_controls(struct vcpu *vcpu);

/* native.c: what native guests need, once; the registers for a walk of such a guest's own tables,
 * as they were at its last call. */
void native_init(void);
void native_walk_registers(struct walk_registers *registers);

/* apic_virtual.c */
/* Virtual-interrupt delivery, as a bit of the secondary controls, or 0: the VM does without. */
uint32_t apic_virtual_interrupts(const struct vm *vm);
bool apic_virtual_create(struct vm *vm);
void apic_virtual_destroy(struct vm *vm);
/* The fields of a new VMCS, which is loaded. */
void apic_virtual_set_vmcs(const struct vcpu *vcpu);
/* The virtual processor runs for the first time. */
void apic_virtual_start(struct vcpu *vcpu);
/* Before the guest is entered, when there was an event: have the VMCS as the local APIC is. */
void apic_virtual_follow_now(struct vcpu *vcpu);
static inline void apic_virtual_follow(struct vcpu *vcpu)
{
    if (vmx.tpr_shadow)
        apic_virtual_follow_now(vcpu);
}
/* Whether the processor delivers the local APIC's interrupts by itself. */
static inline bool apic_virtual_delivers(const struct vcpu *vcpu)
{
    return (vcpu->arch->apic_controls & PROC2_VIRTUAL_INTERRUPTS) != 0;
}
/* The VM does with the APIC-access page what no APIC driver does: its accesses are emulated from
 * now on. */
void apic_access_refuse(struct vm *vm);

/* vcpu.c */
/* The secondary controls. Without EPT, in SHADOW, there is no unrestricted guest either (SDM
 * 3C 26.2.1.1); the guest pages, so it needs none. */
static inline uint32_t vcpu_proc2(const struct vcpu *vcpu)
{
    uint32_t proc2 = vmx.proc2 | vcpu->arch->apic_controls;

    if (vcpu->arch->state == CPT_SHADOW)
        proc2 &= ~(PROC2_EPT | PROC2_UNRESTRICTED_GUEST);
    return proc2;
}
/* The VM's lock, where there are others who could want it. */
static inline void vcpu_lock(struct vcpu *vcpu)
{
    if (vcpu->shared)
        lock_take(&vcpu->vm->lock);
}
static inline void vcpu_unlock(struct vcpu *vcpu)
{
    if (vcpu->shared)
        lock_release(&vcpu->vm->lock);
}
/* Let the guest's TSC be the VM's time and what the guest added to it. */
void vcpu_set_tsc_offset(const struct vcpu *vcpu);
/* Forget the translations of the guest's own tables (a MOV to CR0, CR3 or CR4 that was emulated).
 */
void vcpu_flush_tlb(struct vcpu *vcpu);
/* Of one address only, canonical. */
void vcpu_flush_address(struct vcpu *vcpu, gva_t at);
void vcpu_set_pdptes(const uint64_t pdpte[4]);

/* xsave_trial.c: whether XSAVEC and XRSTOR give back what they were given. Needs CPUID's XSAVEC. */
bool xsave_compaction_works(void);

/* context.c */
size_t context_fpu_pages(void);
void context_init(struct guest_context *context);
void context_load(const struct guest_context *context);
void context_save(struct guest_context *context);

/* vmentry.S: run until vmx_handle_exit says to leave (true), or VM entry fails (false). */
bool vmx_run(struct vcpu *vcpu, bool launched);
/* The same on a processor that has guards to keep around its guests (GUARDS_AROUND_GUEST). */
bool vmx_run_guarded(struct vcpu *vcpu, bool launched);

/* exit.c: called by vmentry.S after each exit. True: vmx_run is left; false: the guest goes on. */
bool vmx_handle_exit(struct vcpu *vcpu);
/* The last look before the guest runs; false: it is not to. */
bool vmx_may_enter(struct vcpu *vcpu);

#endif
