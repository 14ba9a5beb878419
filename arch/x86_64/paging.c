/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a virtual processor walks: the VMCS follows the compound page table (hv/paging/compound.h).
 *
 *              CR3           EPT   exits of MOV CR3                exits of #PF
 *   NESTED     the guest's   on    loads, when a root has nodes    none
 *   COMPOUND   a node        on    all                             none
 *   SHADOW     a node        off   all                             P = 1
 *
 * In SHADOW, while tables are out of sync, INVLPG and INVPCID exit too, and MOV to CR4 that changes
 * what is cached.
 *
 * The roots in the CR3-target values are NESTED ones: loading one does not exit where EPT is on
 * (SDM 3C 26.1.3), and paging_catch_up notices afterwards.
 */
#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/vcpu.h"
#include "hv/arch.h"
#include "hv/guest_paging.h"

#define PF_PRESENT BIT(0) /* of the error code */

/* --- what the compound page table asks for ---------------------------------------------------- */

static bool host_protect(void *context, gpa_t page, bool protect)
{
    return ept_protect(context, page, protect);
}

static void host_invalidate(void *context)
{
    vm_invalidate(context);
}

static unsigned host_ept_references(void *context, gpa_t at)
{
    return ept_references(context, at);
}

static uint64_t host_now(void *context)
{
    (void)context;
    return rdtsc();
}

struct cpt_host arch_paging_host(struct vm *vm)
{
    return (struct cpt_host){vm, host_protect, host_invalidate, host_ept_references, host_now};
}

bool arch_sees_invalidations(void)
{
    return vmx.invlpg_exits;
}

unsigned arch_physical_bits(void)
{
    return guest_physical_bits();
}

bool arch_has_1g_pages(void)
{
    return guest_has_1g_pages();
}

uint64_t arch_max_ept_page(void)
{
    return vmx.max_ept_leaf == 3 ? PAGE_SIZE_1G : vmx.max_ept_leaf == 2 ? PAGE_SIZE_2M : PAGE_SIZE;
}

/* --- the VMCS --------------------------------------------------------------------------------- */

uint64_t guest_cr3(const struct vcpu *vcpu)
{
    uint64_t cr3 = vmread(VMCS_GUEST_CR3);

    /* A CR3-target value may have been loaded without an exit: it is the guest's own. */
    return vcpu->arch->state == CPT_NESTED || cr3 != vcpu->cpt.node_cr3 ? cr3 : vcpu->cpt.cr3;
}

static uint32_t wanted_proc(const struct vcpu *vcpu)
{
    const struct arch_vcpu *arch = vcpu->arch;
    uint32_t proc = vmx.proc;

    if (arch->state != CPT_NESTED)
        proc |= PROC_CR3_LOAD | PROC_CR3_STORE;
    else if (vcpu->vm->paging.cpt && cpt_has_risen_roots(vcpu->vm->paging.cpt))
        proc |= PROC_CR3_LOAD;
    if (arch->step.active && vmx.monitor_trap_flag)
        proc |= PROC_MONITOR_TRAP_FLAG;
    if (arch->watches)
        proc |= PROC_INVLPG;
    if (arch->interrupt_window)
        proc |= PROC_INTERRUPT_WINDOW;
    if (arch->nmi_window)
        proc |= PROC_NMI_WINDOW;
    return proc;
}

/* Bits of CR4 whose change invalidates, SDM 3A 4.10.4.1. */
#define CR4_INVALIDATING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP)

/* Whether the guest's invalidations must exit. Another virtual processor may let a table go out of
 * sync at any time: one that is not alone always tells. */
static void watch_invalidations(struct vcpu *vcpu)
{
    const struct cpt_head *head = cpt_head(vcpu->vm->paging.cpt);
    bool wanted = vcpu->arch->state == CPT_SHADOW && (head->unsync > 0 || vcpu->shared);
    uint64_t owned = guest_cr4_owned();

    if (wanted == vcpu->arch->watches)
        return;
    vcpu->arch->watches = wanted;
    if (wanted) {
        uint64_t seen = vmread(VMCS_CR4_SHADOW) & owned;
        vmwrite(VMCS_CR4_SHADOW, (vmread(VMCS_GUEST_CR4) & ~owned) | seen);
        owned |= CR4_INVALIDATING;
    }
    vmwrite(VMCS_CR4_MASK, owned);
    paging_set_controls(vcpu);
}

void paging_set_controls(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;
    uint32_t proc = wanted_proc(vcpu);
    uint32_t exceptions = EXCEPTIONS_ALWAYS | (arch->state == CPT_SHADOW ? BIT(VECTOR_PF) : 0);

    if (arch->step.active) /* TF must not show in a frame that an exception pushes */
        exceptions = UINT32_MAX;
    if (proc != arch->proc)
        vmwrite(VMCS_PROC_CONTROLS, proc);
    if (exceptions != arch->exceptions) {
        uint64_t codes = PF_PRESENT;
        if (arch->step.active || arch->state != CPT_SHADOW)
            codes = 0;
        vmwrite(VMCS_EXCEPTION_BITMAP, exceptions);
        vmwrite(VMCS_PF_ERROR_MASK, codes);
        vmwrite(VMCS_PF_ERROR_MATCH, codes);
    }
    arch->proc = proc;
    arch->exceptions = exceptions;
}

/* In SHADOW, without EPT, CR0.WP must stay set, and clearing it exits. */
static void set_state(struct vcpu *vcpu, enum cpt_state state)
{
    bool shadow = state == CPT_SHADOW;
    bool was_shadow = vcpu->arch->state == CPT_SHADOW;
    uint64_t owned = guest_cr0_owned();

    vcpu->arch->state = state;
    if (shadow == was_shadow)
        return;
    if (shadow) {
        owned |= CR0_WP;
        vmwrite(VMCS_CR0_SHADOW, vmread(VMCS_CR0_SHADOW) | CR0_WP);
    }
    vmwrite(VMCS_PROC_CONTROLS2, vcpu_proc2(vcpu));
    vmwrite(VMCS_CR0_MASK, owned);
}

static void set_targets(struct vcpu *vcpu)
{
    uint64_t cr3[4];
    unsigned count = 0;

    if (vcpu->arch->state != CPT_SHADOW && !vcpu->cpt.pcid)
        count = cpt_hot_nested_roots(vcpu->vm->paging.cpt, cr3, vmx.cr3_targets);
    for (unsigned i = 0; i < count; i++)
        vmwrite(vmcs_nth(VMCS_CR3_TARGET0, i), cr3[i]);
    vmwrite(VMCS_CR3_TARGET_COUNT, count);
}

/* Everything that follows from vcpu->cpt. */
static void apply(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;
    uint64_t changes = cpt_stats(vcpu->vm->paging.cpt)->root_changes;
    enum cpt_state before = arch->state;

    vmwrite(VMCS_GUEST_CR3, vcpu->cpt.node_cr3);
    if (before == vcpu->cpt.state && changes == arch->root_changes)
        return;
    set_state(vcpu, vcpu->cpt.state);
    paging_set_controls(vcpu);
    if (changes != arch->root_changes || (before == CPT_SHADOW) != (arch->state == CPT_SHADOW)) {
        arch->root_changes = changes;
        set_targets(vcpu);
    }
}

/* A benchmark's samples are to be taken before and after each change of handling. */
static void sample(struct vcpu *vcpu)
{
    uint64_t changes = cpt_head(vcpu->vm->paging.cpt)->changes;

    if (changes == vcpu->arch->handling_changes)
        return;
    vcpu->arch->handling_changes = changes;
    bench_sample(vcpu);
}

/* --- slices ----------------------------------------------------------------------------------- */

/*
 * Several virtual processors have a clock each, of the time that their guest ran. One that slept
 * goes on with the clock of the furthest, so that intervals end for all at about the same time.
 */
void paging_begin_slice(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;

    if (!vcpu->vm->paging.cpt)
        return;
    arch->guest_ticks = max_u64(arch->guest_ticks, vcpu->vm->paging.trace.time);
    arch->entered = time_now();
    vcpu->cpt.since = arch->guest_ticks;
}

void paging_end_slice(struct vcpu *vcpu)
{
    struct cpt_cpu *cpu = &vcpu->cpt;

    if (!vcpu->vm->paging.cpt)
        return;
    cpu->recent[cpu->running].ran += vcpu->arch->guest_ticks - cpu->since;
    cpu->since = vcpu->arch->guest_ticks;
}

void arch_paging_collect(struct vcpu *vcpu)
{
    cpt_collect(vcpu->vm->paging.cpt, &vcpu->cpt, vcpu->arch->guest_ticks);
}

/* --- following -------------------------------------------------------------------------------- */

static void load_root(struct vcpu *vcpu)
{
    cpt_load_root(vcpu->vm->paging.cpt, &vcpu->cpt, vcpu->arch->guest_ticks);
    apply(vcpu);
    watch_invalidations(vcpu);
    sample(vcpu);
}

void paging_registers_changed(struct vcpu *vcpu, uint64_t cr3)
{
    uint64_t cr0 = vmread(VMCS_GUEST_CR0);

    vcpu->cpt.cr3 = cr3;
    vcpu->cpt.paging = (vmread(VMCS_GUEST_EFER) & EFER_LMA) && (cr0 & CR0_PG);
    vcpu->cpt.write_protect = (cr0 & CR0_WP) != 0;
    vcpu->cpt.pcid = (vmread(VMCS_GUEST_CR4) & CR4_PCIDE) != 0;
    load_root(vcpu);
}

void paging_cr3_loaded(struct vcpu *vcpu, uint64_t cr3, bool pcid)
{
    if (pcid == vcpu->cpt.pcid && paging_load_recent(vcpu, cr3))
        return;
    vcpu->cpt.cr3 = cr3;
    vcpu->cpt.pcid = pcid;
    load_root(vcpu);
}

void paging_catch_up_now(struct vcpu *vcpu, uint64_t cr3)
{
    vcpu->arch->state = CPT_NESTED; /* as it runs now: with EPT, by tables of its own */
    paging_registers_changed(vcpu, cr3);
}

void paging_follow_now(struct vcpu *vcpu)
{
    struct cpt *c = vcpu->vm->paging.cpt;

    uint64_t next_look = cpt_head(c)->next_look;

    if (next_look != vcpu->arch->next_look) {
        vcpu->arch->next_look = next_look;
        arch_vcpu_arm(vcpu, vcpu->arch->wake_at); /* or sooner, for this */
    }
    if (cpt_refresh(c, &vcpu->cpt, vcpu->arch->guest_ticks) ||
        cpt_stats(c)->root_changes != vcpu->arch->root_changes)
        apply(vcpu);
    watch_invalidations(vcpu);
    sample(vcpu);
}

void paging_invalidated(struct vcpu *vcpu)
{
    cpt_invalidated(vcpu->vm->paging.cpt);
    paging_follow_now(vcpu);
}

static void end_interval(struct vcpu *vcpu)
{
    struct cpt *c = vcpu->vm->paging.cpt;

    vcpu->cpt.write_protect =
        (vmread(VMCS_GUEST_CR0) & CR0_WP) != 0; /* no exit tells, but in SHADOW */
    cpt_tick(c, &vcpu->cpt, vcpu->arch->guest_ticks);
    paging_follow_now(vcpu);
    set_targets(vcpu);
    ept_merge(vcpu->vm);
}

void paging_tick(struct vcpu *vcpu)
{
    if (vcpu->vm->steps > 0) /* the page that is open must not change its handling */
        return;
    paging_catch_up(vcpu);
    end_interval(vcpu);
    if (vcpu->vm->settings->stress > 0) {
        cpt_stress(vcpu->vm->paging.cpt);
        paging_follow_now(vcpu);
        vcpu->arch->next_look = 0; /* at the next exit again */
    }
}
