/* SPDX-License-Identifier: BSD-2-Clause */
/* See exit.h. */
#include "arch/x86_64/exit.h"

#include "drivers/apic.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/sched.h"

/* --- leaving an instruction ------------------------------------------------------------------- */

void exit_advance(uint64_t rip)
{
    vmwrite(VMCS_GUEST_RIP, rip);

    uint32_t blocking = vmread32(VMCS_GUEST_INTERRUPTIBILITY);
    if (blocking & (BLOCKING_STI | BLOCKING_MOV_SS))
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocking & ~(BLOCKING_STI | BLOCKING_MOV_SS));
    if (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF)
        vmwrite(VMCS_GUEST_PENDING_DEBUG, vmread(VMCS_GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
}

void exit_skip_bytes(uint64_t length)
{
    exit_advance(vmread(VMCS_GUEST_RIP) + length);
}

void exit_skip_instruction(void)
{
    exit_skip_bytes(vmread(VMCS_EXIT_INSTRUCTION_LENGTH));
}

/* --- events ----------------------------------------------------------------------------------- */

static bool pushes_error_code(uint8_t vector)
{
    return vector == VECTOR_DF || (vector >= VECTOR_TS && vector <= VECTOR_PF) ||
           vector == VECTOR_AC;
}

/* SDM 3A table 6-4 */
static bool is_contributory(uint8_t vector)
{
    return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP);
}

static void inject_event(uint32_t information, uint32_t error_code, uint64_t length)
{
    vmwrite(VMCS_ENTRY_INTERRUPTION, information | INTERRUPTION_VALID);
    vmwrite(VMCS_ENTRY_ERROR_CODE, error_code);
    vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, length);
}

/* In real-address mode no exception pushes an error code, SDM 3C 27.2.1.3. */
static void inject_exception(uint8_t vector, uint32_t error_code)
{
    bool has_code = pushes_error_code(vector) && (vmread(VMCS_GUEST_CR0) & CR0_PE);

    inject_event(INTERRUPTION_HARDWARE | vector | (has_code ? INTERRUPTION_ERROR_CODE : 0),
                 error_code, 0);
}

void exit_inject(struct vcpu *vcpu, uint8_t vector, uint32_t error_code)
{
    uint32_t vectoring = vmread32(VMCS_IDT_VECTORING);
    uint8_t first = (uint8_t)(vectoring & INTERRUPTION_VECTOR);

    if ((vectoring & INTERRUPTION_VALID) &&
        (vectoring & INTERRUPTION_TYPE) == INTERRUPTION_HARDWARE) {
        if (first == VECTOR_DF) {
            vm_triple_fault(vcpu->vm, ": exception %u while a double fault was delivered", vector);
            return;
        }
        if ((is_contributory(first) && is_contributory(vector)) ||
            (first == VECTOR_PF && (vector == VECTOR_PF || is_contributory(vector)))) {
            inject_exception(VECTOR_DF, 0);
            return;
        }
    }
    inject_exception(vector, error_code);
}

void exit_redeliver_now(uint32_t vectoring)
{
    if (vmread32(VMCS_ENTRY_INTERRUPTION) & INTERRUPTION_VALID)
        return;
    /* An NMI is injected into a guest that is not blocked by it yet (SDM 3C 27.3.1.5). */
    if ((vectoring & INTERRUPTION_TYPE) == INTERRUPTION_NMI)
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY,
                vmread(VMCS_GUEST_INTERRUPTIBILITY) & ~(uint64_t)BLOCKING_NMI);
    /* Bit 12 is undefined here, and must be 0 there. */
    inject_event(vectoring & ~INTERRUPTION_NMI_UNBLOCK, vmread32(VMCS_IDT_VECTORING_ERROR_CODE),
                 vmread(VMCS_EXIT_INSTRUCTION_LENGTH));
}

void exit_inject_fault(struct vcpu *vcpu, const struct guest_fault *fault)
{
    if (fault->vector == VECTOR_PF)
        write_cr2(fault->address.v);
    exit_inject(vcpu, fault->vector, fault->error_code);
}

bool exit_is_overtaken_now(struct vcpu *vcpu)
{
    bool flush = (__atomic_load_n(&vcpu->attention, __ATOMIC_ACQUIRE) & ATTEND_FLUSH) != 0;
    if (!flush && vcpu->cpt.generation == cpt_head(vcpu->vm->paging.cpt)->generation)
        return false;
    paging_follow(vcpu);
    exit_redeliver();
    return true;
}

/* --- small handlers --------------------------------------------------------------------------- */

static bool exit_vmcall(struct vcpu *vcpu)
{
    if (ACCESS_DPL(vmread32(VMCS_GUEST_SS_ACCESS)) != 0) {
        exit_inject(vcpu, VECTOR_UD, 0);
        return true;
    }
    if (vcpu->vm->paging.cpt) /* what it asks may depend on the root that runs */
        paging_catch_up(vcpu);
    hypercall(vcpu);
    exit_skip_instruction();
    return true;
}

static bool exit_hlt(struct vcpu *vcpu)
{
    exit_skip_instruction();
    /* Either way it is looked at: to be left, or to get what is there already. */
    vcpu_halt(vcpu, (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF) != 0);
    sched_attention(vcpu, ATTEND_EVENTS);
    return true;
}

static bool exit_triple_fault(struct vcpu *vcpu)
{
    vm_triple_fault(vcpu->vm, "%s", "");
    return true;
}

static bool exit_invalid_state(struct vcpu *vcpu)
{
    vm_stop(vcpu->vm, "the processor refused the guest's state (exit qualification %llu)",
            (unsigned long long)vmread(VMCS_EXIT_QUALIFICATION));
    return true;
}

/* The interrupt was acknowledged by the exit, so that its vector is here and EOI is due. */
static bool exit_external_interrupt(struct vcpu *vcpu)
{
    apic_interrupt_in_hypervisor((uint8_t)(vmread32(VMCS_EXIT_INTERRUPTION) & INTERRUPTION_VECTOR));
    sched_attention(vcpu, ATTEND_EVENTS); /* a timer, or another of this processor's is wanted */
    return true;
}

/* Its value is 0 now, and the next entry would exit at once. */
static bool exit_preemption_timer(struct vcpu *vcpu)
{
    bench_timer(vcpu);
    sched_attention(vcpu, ATTEND_EVENTS);
    return true;
}

static bool exit_task_switch(struct vcpu *vcpu)
{
    vm_stop(vcpu->vm, "task switch by hardware, which Twofold does not emulate");
    return true;
}

static bool exit_unexpected(struct vcpu *vcpu)
{
    (void)vcpu;
    return false;
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    exit_handler *handle; /* exit_unexpected: cannot happen with the controls that are set */
} exits[EXIT_REASONS] = {
    [EXIT_EXCEPTION_NMI] = {"exception_nmi", exit_exception},
    [EXIT_EXTERNAL_INTERRUPT] = {"external_interrupt", exit_external_interrupt},
    [EXIT_TRIPLE_FAULT] = {"triple_fault", exit_triple_fault},
    [EXIT_INIT] = {"init", exit_unexpected},
    [EXIT_SIPI] = {"sipi", exit_unexpected},
    [EXIT_IO_SMI] = {"io_smi", exit_unexpected},
    [EXIT_OTHER_SMI] = {"other_smi", exit_unexpected},
    [EXIT_INTERRUPT_WINDOW] = {"interrupt_window", exit_window},
    [EXIT_NMI_WINDOW] = {"nmi_window", exit_window},
    [EXIT_TASK_SWITCH] = {"task_switch", exit_task_switch},
    [EXIT_CPUID] = {"cpuid", exit_cpuid},
    [EXIT_GETSEC] = {"getsec", exit_undefined},
    [EXIT_HLT] = {"hlt", exit_hlt},
    [EXIT_INVD] = {"invd", exit_invd},
    [EXIT_INVLPG] = {"invlpg", exit_invlpg},
    [EXIT_RDPMC] = {"rdpmc", exit_privileged},
    [EXIT_RDTSC] = {"rdtsc", exit_unexpected},
    [EXIT_RSM] = {"rsm", exit_undefined},
    [EXIT_VMCALL] = {"vmcall", exit_vmcall},
    [EXIT_VMCLEAR] = {"vmclear", exit_undefined},
    [EXIT_VMLAUNCH] = {"vmlaunch", exit_undefined},
    [EXIT_VMPTRLD] = {"vmptrld", exit_undefined},
    [EXIT_VMPTRST] = {"vmptrst", exit_undefined},
    [EXIT_VMREAD] = {"vmread", exit_undefined},
    [EXIT_VMRESUME] = {"vmresume", exit_undefined},
    [EXIT_VMWRITE] = {"vmwrite", exit_undefined},
    [EXIT_VMXOFF] = {"vmxoff", exit_undefined},
    [EXIT_VMXON] = {"vmxon", exit_undefined},
    [EXIT_CR_ACCESS] = {"cr_access", exit_cr_access},
    [EXIT_DR_ACCESS] = {"dr_access", exit_unexpected},
    [EXIT_IO] = {"io", exit_io},
    [EXIT_RDMSR] = {"rdmsr", exit_rdmsr},
    [EXIT_WRMSR] = {"wrmsr", exit_wrmsr},
    [EXIT_INVALID_STATE] = {"invalid_state", exit_invalid_state},
    [EXIT_MSR_LOADING] = {"msr_loading", exit_invalid_state},
    [35] = {"reserved_35", exit_unexpected},
    [EXIT_MWAIT] = {"mwait", exit_undefined},
    [EXIT_MONITOR_TRAP_FLAG] = {"monitor_trap_flag", exit_monitor_trap_flag},
    [38] = {"reserved_38", exit_unexpected},
    [EXIT_MONITOR] = {"monitor", exit_undefined},
    [EXIT_PAUSE] = {"pause", exit_unexpected},
    [EXIT_MACHINE_CHECK] = {"machine_check", exit_invalid_state},
    [42] = {"reserved_42", exit_unexpected},
    [EXIT_TPR_THRESHOLD] = {"tpr_threshold", exit_tpr_threshold},
    [EXIT_APIC_ACCESS] = {"apic_access", exit_apic_access},
    [EXIT_VIRTUALIZED_EOI] = {"virtualized_eoi", exit_virtualized_eoi},
    [EXIT_GDTR_IDTR] = {"gdtr_idtr", exit_unexpected},
    [EXIT_LDTR_TR] = {"ldtr_tr", exit_unexpected},
    [EXIT_EPT_VIOLATION] = {"ept_violation", exit_ept_violation},
    [EXIT_EPT_MISCONFIGURATION] = {"ept_misconfiguration", exit_unexpected},
    [EXIT_INVEPT] = {"invept", exit_undefined},
    [EXIT_RDTSCP] = {"rdtscp", exit_unexpected},
    [EXIT_PREEMPTION_TIMER] = {"preemption_timer", exit_preemption_timer},
    [EXIT_INVVPID] = {"invvpid", exit_undefined},
    [EXIT_WBINVD] = {"wbinvd", exit_invd},
    [EXIT_XSETBV] = {"xsetbv", exit_xsetbv},
    [EXIT_APIC_WRITE] = {"apic_write", exit_apic_write},
    [EXIT_RDRAND] = {"rdrand", exit_unexpected},
    [EXIT_INVPCID] = {"invpcid", exit_invpcid},
    [EXIT_VMFUNC] = {"vmfunc", exit_undefined},
    [EXIT_ENCLS] = {"encls", exit_undefined},
    [EXIT_RDSEED] = {"rdseed", exit_unexpected},
    [EXIT_PML_FULL] = {"pml_full", exit_unexpected},
    [EXIT_XSAVES] = {"xsaves", exit_undefined},
    [EXIT_XRSTORS] = {"xrstors", exit_undefined},
};
_Static_assert(EXIT_REASONS <= EXIT_REASONS_MAX, "struct vcpu has a counter for each reason");

const unsigned arch_exit_hypercall = EXIT_VMCALL;
const unsigned arch_exit_port = EXIT_IO;

const char *arch_exit_name(unsigned reason)
{
    return reason < EXIT_REASONS ? exits[reason].name : NULL;
}

/*
 * The two looks at the clock. What lies between them is exact for exits of less than 2^32 ticks,
 * which all are whose handler does not wait for a person's UART.
 */
static inline bool keeps_guest_time(const struct vcpu *vcpu)
{
    return __builtin_expect(vcpu->vm->paging.cpt != NULL, false); /* nested: the straight way */
}

static inline void begin_exit(struct vcpu *vcpu, bool shared)
{
    if (keeps_guest_time(vcpu)) {
        uint64_t now = rdtsc();
        vcpu->exited = (uint32_t)now;
        paging_begin_exit(vcpu, now, shared);
    } else {
        vcpu->exited = rdtsc_low();
    }
}

/* The time that the exit took. Returns the TSC, its lower half. */
static inline uint32_t count_exit(struct vcpu *vcpu)
{
    uint32_t now = keeps_guest_time(vcpu) ? (uint32_t)paging_end_exit(vcpu) : rdtsc_low();

    vcpu->host_ticks += now - vcpu->exited;
    return now;
}

static inline void end_exit(struct vcpu *vcpu)
{
    uint32_t now = count_exit(vcpu);

    /* A timer is due: no time that is waited for is further away than half of what this tells. */
    if (__builtin_expect((int32_t)(now - (uint32_t)vcpu->arch->wake_at) >= 0, false))
        sched_attention(vcpu, ATTEND_EVENTS);
}

__attribute__((noinline)) static bool attend(struct vcpu *vcpu, bool timers)
{
    vcpu_lock(vcpu);
    vcpu->exited = rdtsc_low();
    bool goes_on = vcpu_attend(vcpu, timers);
    /* What is due meanwhile waits for the timer that is armed now, or else for vcpu_wakes_at. */
    count_exit(vcpu);
    bench_look(vcpu);
    vcpu_unlock(vcpu);
    return goes_on;
}

/*
 * The guest is entered only when nothing was left to attend to after in_guest was set: whoever sets
 * a bit then sees in_guest, and interrupts. The exchange is the fence that this needs (SDM 3A
 * 8.2.3.4). Nobody waits for one that is alone in its VM, and a kick that comes after the look ends
 * the visit at once.
 */
static inline bool may_enter(struct vcpu *vcpu, bool shared)
{
    if (shared)
        __atomic_exchange_n(&vcpu->in_guest, 1, __ATOMIC_SEQ_CST);
    return __builtin_expect(__atomic_load_n(&vcpu->attention, __ATOMIC_ACQUIRE) == 0, true);
}

/* Timers are looked at once: one that is due again at each look would keep the guest from its
 * processor for ever. */
__attribute__((noinline)) bool vmx_may_enter(struct vcpu *vcpu)
{
    bool timers = true;

    while (!may_enter(vcpu, vcpu->shared)) {
        __atomic_store_n(&vcpu->in_guest, 0, __ATOMIC_RELEASE);
        if (!attend(vcpu, timers))
            return false;
        timers = false;
    }
    return true;
}

/* An exit that nothing handles, or whose handler could not. */
__attribute__((noinline)) static void stop_unhandled(struct vcpu *vcpu, uint32_t reason)
{
    const char *name = reason < EXIT_REASONS ? exits[reason].name : NULL;

    vm_stop(vcpu->vm, "exit %u (%s), qualification 0x%llx: not handled", reason,
            name ? name : "unknown", (unsigned long long)vmread(VMCS_EXIT_QUALIFICATION));
}

__attribute__((always_inline)) static inline void handle(struct vcpu *vcpu, uint32_t reason,
                                                         bool shared)
{
    if (reason >= EXIT_REASONS) {
        stop_unhandled(vcpu, reason);
        return;
    }
    begin_exit(vcpu, shared);
    vcpu->exits[reason]++;
    if (!exits[reason].handle(vcpu))
        stop_unhandled(vcpu, reason);
    end_exit(vcpu);
}

/* The exit of a virtual processor that is not alone in its VM. */
__attribute__((noinline)) static bool handle_shared_exit(struct vcpu *vcpu, uint32_t reason)
{
    __atomic_store_n(&vcpu->in_guest, 0, __ATOMIC_RELEASE);
    lock_take(&vcpu->vm->lock);
    handle(vcpu, reason, true);
    lock_release(&vcpu->vm->lock);
    return !vmx_may_enter(vcpu);
}

bool vmx_handle_exit(struct vcpu *vcpu)
{
    uint32_t reason = vmread32(VMCS_EXIT_REASON) & EXIT_REASON_BASIC;

    if (__builtin_expect(vcpu->shared, false))
        return handle_shared_exit(vcpu, reason);
    handle(vcpu, reason, false);
    return !may_enter(vcpu, false) && !vmx_may_enter(vcpu);
}

/* --- the dump --------------------------------------------------------------------------------- */

static void dump_segment(const char *name, enum vmcs_segment segment)
{
    console_printf("%s %04llx base %016llx limit %08llx access %05llx\n", name,
                   (unsigned long long)vmread(vmcs_nth(VMCS_GUEST_ES_SELECTOR, segment)),
                   (unsigned long long)vmread(vmcs_nth(VMCS_GUEST_ES_BASE, segment)),
                   (unsigned long long)vmread(vmcs_nth(VMCS_GUEST_ES_LIMIT, segment)),
                   (unsigned long long)vmread(vmcs_nth(VMCS_GUEST_ES_ACCESS, segment)));
}

static void dump_code(const struct vcpu *vcpu)
{
    uint8_t code[16];
    uint64_t count = guest_fetch(vcpu, code, sizeof(code));

    console_printf("code at rip:");
    for (uint64_t i = 0; i < count; i++)
        console_printf(" %02x", code[i]);
    console_printf(count ? "\n" : " cannot be fetched\n");
}

void arch_vcpu_dump(const struct vcpu *vcpu)
{
    static const char *const names[GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                 "rsi", "rdi", "r8 ", "r9 ", "r10", "r11",
                                                 "r12", "r13", "r14", "r15"};

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        uint64_t value = i == GPR_RSP ? vmread(VMCS_GUEST_RSP) : vcpu->gpr[i];
        console_printf("%s %016llx%s", names[i], (unsigned long long)value,
                       i % 4 == 3 ? "\n" : " ");
    }
    console_printf("rip %016llx rflags %08llx efer %04llx cr2 %016llx\n",
                   (unsigned long long)vmread(VMCS_GUEST_RIP),
                   (unsigned long long)vmread(VMCS_GUEST_RFLAGS),
                   (unsigned long long)vmread(VMCS_GUEST_EFER), (unsigned long long)read_cr2());
    console_printf("cr0 %08llx cr3 %016llx cr4 %08llx\n",
                   (unsigned long long)vmread(VMCS_GUEST_CR0), (unsigned long long)guest_cr3(vcpu),
                   (unsigned long long)vmread(VMCS_GUEST_CR4));
    dump_segment("cs", SEG_CS);
    dump_segment("ss", SEG_SS);
    console_printf("exit reason 0x%x qualification %016llx linear %016llx physical %016llx\n",
                   vmread32(VMCS_EXIT_REASON), (unsigned long long)vmread(VMCS_EXIT_QUALIFICATION),
                   (unsigned long long)vmread(VMCS_GUEST_LINEAR_ADDRESS),
                   (unsigned long long)vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
    dump_code(vcpu);
}
