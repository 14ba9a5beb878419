/* SPDX-License-Identifier: BSD-2-Clause */
/* See vmx.h. */
#include "arch/x86_64/vmx.h"

#include "arch/x86_64/cet.h"
#include "arch/x86_64/memory.h"
#include "arch/x86_64/processor.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/faults.h"
#include "hv/memory.h"
#include "hv/settings.h"

/* Capability MSRs, SDM 3D appendix A */
#define MSR_VMX_BASIC        0x480u
#define MSR_VMX_PIN          0x481u
#define MSR_VMX_PROC         0x482u
#define MSR_VMX_EXIT         0x483u
#define MSR_VMX_ENTRY        0x484u
#define MSR_VMX_MISC         0x485u
#define MSR_VMX_CR0_FIXED0   0x486u
#define MSR_VMX_CR0_FIXED1   0x487u
#define MSR_VMX_CR4_FIXED0   0x488u
#define MSR_VMX_CR4_FIXED1   0x489u
#define MSR_VMX_PROC2        0x48bu
#define MSR_VMX_EPT_VPID_CAP 0x48cu
#define MSR_VMX_TRUE_PIN     0x48du
#define MSR_VMX_TRUE_PROC    0x48eu
#define MSR_VMX_TRUE_EXIT    0x48fu
#define MSR_VMX_TRUE_ENTRY   0x490u

#define BASIC_REVISION       0x7fffffffull
#define BASIC_STRING_IO_INFO BIT(54)
#define BASIC_TRUE_CONTROLS  BIT(55)
#define MISC_TIMER_SHIFT     0x1full
#define MISC_CR3_TARGETS(v)  ((unsigned)((v) >> 16) & 0x1ff)
#define CR3_TARGETS_MAX      4u /* fields that the VMCS has */

#define EPT_CAP_WALK_4     BIT(6)
#define EPT_CAP_WRITE_BACK BIT(14)
#define EPT_CAP_2M         BIT(16)
#define EPT_CAP_1G         BIT(17)
#define EPT_CAP_INVEPT     BIT(20)
#define EPT_CAP_INVEPT_ONE BIT(25)
#define EPT_CAP_INVEPT_ALL BIT(26)
#define VPID_CAP_INVVPID   BIT(32)
#define VPID_CAP_ADDRESS   BIT(40)
#define VPID_CAP_ONE       BIT(41)
#define VPID_CAP_ALL       BIT(42)
#define VPID_CAP_RETAIN    BIT(43)

struct vmx vmx;

enum need { REQUIRED, OPTIONAL };

struct control {
    uint32_t bit;
    enum need need;
    const char *name; /* as in the manual's tables */
};

static const struct control pin_controls[] = {
    {PIN_EXTERNAL_INTERRUPT, REQUIRED, "external-interrupt exiting"},
    {PIN_NMI, REQUIRED, "NMI exiting"},
    {PIN_VIRTUAL_NMIS, OPTIONAL, "virtual NMIs"},
    {PIN_PREEMPTION_TIMER, OPTIONAL, "VMX-preemption timer"},
};

static const struct control proc_controls[] = {
    {PROC_TSC_OFFSETTING, REQUIRED, "TSC offsetting"},
    {PROC_HLT, REQUIRED, "HLT exiting"},
    {PROC_MWAIT, REQUIRED, "MWAIT exiting"},
    {PROC_MONITOR, REQUIRED, "MONITOR exiting"},
    {PROC_RDPMC, REQUIRED, "RDPMC exiting"},
    {PROC_CR8_LOAD, REQUIRED, "CR8-load exiting"},
    {PROC_CR8_STORE, REQUIRED, "CR8-store exiting"},
    {PROC_UNCONDITIONAL_IO, REQUIRED, "unconditional I/O exiting"},
    {PROC_MSR_BITMAPS, REQUIRED, "MSR bitmaps"},
    {PROC_SECONDARY, REQUIRED, "secondary controls"},
};

static const struct control proc2_controls[] = {
    {PROC2_EPT, REQUIRED, "EPT"},
    {PROC2_VPID, OPTIONAL, "VPID"},
    {PROC2_UNRESTRICTED_GUEST, OPTIONAL, "unrestricted guest"},
    {PROC2_RDTSCP, OPTIONAL, "RDTSCP"},
    {PROC2_INVPCID, OPTIONAL, "INVPCID"},
    {PROC2_XSAVES, OPTIONAL, "XSAVES/XRSTORS"},
};

static const struct control exit_controls[] = {
    {EXIT_SAVE_DEBUG, REQUIRED, "save debug controls"},
    {EXIT_HOST_64BIT, REQUIRED, "host address-space size"},
    {EXIT_ACKNOWLEDGE_INTERRUPT, REQUIRED, "acknowledge interrupt on exit"},
    {EXIT_SAVE_PAT, REQUIRED, "save IA32_PAT"},
    {EXIT_LOAD_PAT, REQUIRED, "load IA32_PAT (exit)"},
    {EXIT_SAVE_EFER, REQUIRED, "save IA32_EFER"},
    {EXIT_LOAD_EFER, REQUIRED, "load IA32_EFER (exit)"},
    /* So that it goes on counting across exits; else a time may be met up to 10 ms late. */
    {EXIT_SAVE_TIMER, OPTIONAL, "save VMX-preemption timer value"},
};

static const struct control entry_controls[] = {
    {ENTRY_LOAD_DEBUG, REQUIRED, "load debug controls"},
    {ENTRY_LOAD_PAT, REQUIRED, "load IA32_PAT (entry)"},
    {ENTRY_LOAD_EFER, REQUIRED, "load IA32_EFER (entry)"},
};

/*
 * One control word: what the capability MSR demands (its low half), and of the table what it allows
 * (its high half) and `masked` does not take away. SDM 3D A.3.
 */
static bool choose(const struct control *table, size_t count, uint64_t capability, uint32_t masked,
                   uint32_t *word, struct why *why)
{
    uint32_t must = (uint32_t)capability;
    uint32_t may = (uint32_t)(capability >> 32) & ~masked;

    *word = must;
    for (size_t i = 0; i < count; i++) {
        if ((may & table[i].bit) && !fault_capability(table[i].name))
            *word |= table[i].bit;
        else if (table[i].need == REQUIRED)
            return why_set(why, "this processor's VT-x lacks a control that Twofold needs: %s",
                           table[i].name);
        else
            log_line("vmx: no %s; going without", table[i].name);
    }
    return true;
}

static uint32_t masked_bit(uint64_t without, enum feature feature, uint32_t bit)
{
    return without >> feature & 1 ? bit : 0;
}

/* What the instruction set lacks, the control is of no use for: the guest's CPUID then hides it
 * too. */
static uint32_t absent_instructions(void)
{
    bool rdtscp = (cpuid(0x80000001, 0).edx & CPUID_EXT1_EDX_RDTSCP) != 0;
    bool invpcid = cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & CPUID7_EBX_INVPCID) != 0;

    bool xsaves = cpuid(0, 0).eax >= 0xd && (cpuid(0xd, 1).eax & CPUIDD1_EAX_XSAVES) != 0;

    return (rdtscp ? 0 : PROC2_RDTSCP) | (invpcid ? 0 : PROC2_INVPCID) |
           (xsaves ? 0 : PROC2_XSAVES);
}

static bool choose_controls(uint64_t without, struct why *why)
{
    uint64_t basic = rdmsr(MSR_VMX_BASIC);
    bool precise = (basic & BASIC_TRUE_CONTROLS) != 0;
    uint64_t proc_capability = rdmsr(precise ? MSR_VMX_TRUE_PROC : MSR_VMX_PROC);
    uint64_t exit_capability = rdmsr(precise ? MSR_VMX_TRUE_EXIT : MSR_VMX_EXIT);
    uint64_t entry_capability = rdmsr(precise ? MSR_VMX_TRUE_ENTRY : MSR_VMX_ENTRY);
    uint32_t pin_masked = masked_bit(without, FEATURE_PREEMPTION_TIMER, PIN_PREEMPTION_TIMER);
    uint32_t proc2_masked =
        masked_bit(without, FEATURE_VPID, PROC2_VPID) |
        masked_bit(without, FEATURE_EPT, PROC2_EPT) |
        masked_bit(without, FEATURE_UNRESTRICTED_GUEST, PROC2_UNRESTRICTED_GUEST) |
        absent_instructions();

    vmx.revision = (uint32_t)(basic & BASIC_REVISION);
    vmx.string_io_info = (basic & BASIC_STRING_IO_INFO) != 0;
    if (!choose(pin_controls, ARRAY_SIZE(pin_controls),
                rdmsr(precise ? MSR_VMX_TRUE_PIN : MSR_VMX_PIN), pin_masked, &vmx.pin, why) ||
        !choose(proc_controls, ARRAY_SIZE(proc_controls), proc_capability, 0, &vmx.proc, why) ||
        !choose(proc2_controls, ARRAY_SIZE(proc2_controls), rdmsr(MSR_VMX_PROC2), proc2_masked,
                &vmx.proc2, why) ||
        !choose(exit_controls, ARRAY_SIZE(exit_controls), exit_capability, 0, &vmx.exit, why) ||
        !choose(entry_controls, ARRAY_SIZE(entry_controls), entry_capability, 0, &vmx.entry, why))
        return false;

    if (cet_is_on())
        vmx.exit |= EXIT_LOAD_CET;
    vmx.preemption_timer = (vmx.pin & PIN_PREEMPTION_TIMER) != 0;
    if (!vmx.preemption_timer) /* the one needs the other, SDM 3C 27.2.1.2 */
        vmx.exit &= ~EXIT_SAVE_TIMER;
    vmx.virtual_nmis = (vmx.pin & PIN_VIRTUAL_NMIS) != 0;
    vmx.preemption_timer_shift = (unsigned)(rdmsr(MSR_VMX_MISC) & MISC_TIMER_SHIFT);
    vmx.cr3_targets = MISC_CR3_TARGETS(rdmsr(MSR_VMX_MISC));
    if (vmx.cr3_targets > CR3_TARGETS_MAX)
        vmx.cr3_targets = CR3_TARGETS_MAX;
    vmx.vpid = (vmx.proc2 & PROC2_VPID) != 0;
    vmx.unrestricted_guest = (vmx.proc2 & PROC2_UNRESTRICTED_GUEST) != 0;
    vmx.rdtscp = (vmx.proc2 & PROC2_RDTSCP) != 0;
    vmx.invpcid = (vmx.proc2 & PROC2_INVPCID) != 0;
    vmx.xsaves = (vmx.proc2 & PROC2_XSAVES) != 0;
    vmx.perf_global_ctrl = (exit_capability >> 32 & EXIT_LOAD_PERF_GLOBAL_CTRL) &&
                           (entry_capability >> 32 & ENTRY_LOAD_PERF_GLOBAL_CTRL);
    vmx.cr3_exits = (vmx.proc & (PROC_CR3_LOAD | PROC_CR3_STORE)) != 0;
    vmx.invlpg_exits = (proc_capability >> 32 & PROC_INVLPG) != 0;
    vmx.monitor_trap_flag = (proc_capability >> 32 & PROC_MONITOR_TRAP_FLAG) &&
                            !(without >> FEATURE_MONITOR_TRAP_FLAG & 1) &&
                            !fault_capability("monitor trap flag");
    if (!vmx.monitor_trap_flag)
        log_line("vmx: no monitor trap flag; going without");
    if (vmx.cr3_exits)
        log_line("vmx: CR3 accesses always exit here; guests pay for it");
    return true;
}

static bool choose_ept(uint64_t without, struct why *why)
{
    uint64_t capability = rdmsr(MSR_VMX_EPT_VPID_CAP);
    bool pages_2m = (capability & EPT_CAP_2M) && !(without >> FEATURE_2M_PAGES & 1) &&
                    !fault_capability("2-MiB EPT pages");
    bool pages_1g = pages_2m && (capability & EPT_CAP_1G) && !(without >> FEATURE_1G_PAGES & 1) &&
                    !fault_capability("1-GiB EPT pages");

    if (fault_capability("4-level walks") || !(capability & EPT_CAP_WALK_4) ||
        !(capability & EPT_CAP_WRITE_BACK))
        return why_set(why, "this processor's EPT lacks 4-level walks or write-back tables");
    if (fault_capability("INVEPT") || !(capability & EPT_CAP_INVEPT) ||
        !(capability & (EPT_CAP_INVEPT_ONE | EPT_CAP_INVEPT_ALL)))
        return why_set(why, "this processor's EPT lacks INVEPT");
    vmx.invept = capability & EPT_CAP_INVEPT_ONE ? INVEPT_SINGLE_CONTEXT : INVEPT_ALL_CONTEXTS;
    vmx.max_ept_leaf = pages_1g ? 3 : pages_2m ? 2 : 1;
    if (!pages_1g)
        log_line("vmx: no 1-GiB EPT pages; going without");
    if (!pages_2m)
        log_line("vmx: no 2-MiB EPT pages; going without");

    /* VPID tags that could not be invalidated would be worse than none. */
    if (vmx.vpid && (fault_capability("INVVPID") || !(capability & VPID_CAP_INVVPID) ||
                     !(capability & (VPID_CAP_ONE | VPID_CAP_ALL)))) {
        log_line("vmx: no INVVPID; going without VPID");
        vmx.vpid = false;
        vmx.proc2 &= ~PROC2_VPID;
    }
    vmx.invvpid = capability & VPID_CAP_ONE ? INVVPID_SINGLE_CONTEXT : INVVPID_ALL_CONTEXTS;
    vmx.invvpid_address = capability & VPID_CAP_ADDRESS ? INVVPID_ADDRESS : vmx.invvpid;
    vmx.invvpid_cr3 = capability & VPID_CAP_RETAIN ? INVVPID_RETAIN_GLOBALS : vmx.invvpid;
    return true;
}

/* --- one kind of processor -------------------------------------------------------------------- */

/* The controls are chosen by what the boot processor offers: the others must offer the same. */
static const uint32_t capability_msrs[] = {
    MSR_VMX_BASIC,      MSR_VMX_PIN,        MSR_VMX_PROC,       MSR_VMX_EXIT,
    MSR_VMX_ENTRY,      MSR_VMX_MISC,       MSR_VMX_CR0_FIXED0, MSR_VMX_CR0_FIXED1,
    MSR_VMX_CR4_FIXED0, MSR_VMX_CR4_FIXED1, MSR_VMX_PROC2,      MSR_VMX_EPT_VPID_CAP,
};

static uint64_t capabilities[ARRAY_SIZE(capability_msrs)];

static void keep_capabilities(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(capability_msrs); i++)
        capabilities[i] = rdmsr(capability_msrs[i]);
}

static bool has_same_capabilities(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(capability_msrs); i++) {
        if (rdmsr(capability_msrs[i]) != capabilities[i])
            return false;
    }
    return true;
}

bool vmx_init(uint64_t without, struct why *why)
{
    if (fault_capability("VT-x") || !(cpuid(1, 0).ecx & CPUID1_ECX_VMX))
        return why_set(why, "this processor has no VT-x (CPUID.1:ECX bit 5 is 0)");
    if (!choose_controls(without, why) || !choose_ept(without, why))
        return false;
    vmx.cr0_must_be_1 = rdmsr(MSR_VMX_CR0_FIXED0);
    vmx.cr0_may_be_1 = rdmsr(MSR_VMX_CR0_FIXED1);
    vmx.cr4_must_be_1 = rdmsr(MSR_VMX_CR4_FIXED0);
    vmx.cr4_may_be_1 = rdmsr(MSR_VMX_CR4_FIXED1);
    keep_capabilities();
    return true;
}

bool vmx_can_load_cet(void)
{
    if (!(cpuid(1, 0).ecx & CPUID1_ECX_VMX))
        return true;
    bool precise = (rdmsr(MSR_VMX_BASIC) & BASIC_TRUE_CONTROLS) != 0;
    return (rdmsr(precise ? MSR_VMX_TRUE_EXIT : MSR_VMX_EXIT) >> 32 & EXIT_LOAD_CET) != 0;
}

bool vmx_load_perf_global_ctrl(void)
{
    if (!vmx.perf_global_ctrl)
        return false;
    vmx.exit |= EXIT_LOAD_PERF_GLOBAL_CTRL;
    vmx.entry |= ENTRY_LOAD_PERF_GLOBAL_CTRL;
    return true;
}

/* The firmware may leave IA32_FEATURE_CONTROL open (then we set and lock it) or locked, SDM
 * 3C 24.7. */
static bool allow_vmxon(struct why *why)
{
    uint64_t control = rdmsr(MSR_FEATURE_CONTROL);

    if (control & FEATURE_CONTROL_LOCK) {
        if ((control & FEATURE_CONTROL_VMX_OUT_SMX) && !fault_capability("IA32_FEATURE_CONTROL"))
            return true;
        return why_set(why, "the firmware has locked VT-x off (IA32_FEATURE_CONTROL); "
                            "enable it in the firmware's setup");
    }
    wrmsr(MSR_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUT_SMX);
    return true;
}

void vmx_leave(void)
{
    if (!this_processor()->in_vmx)
        return;
    __asm__ volatile("vmxoff" : : : "cc", "memory");
    write_cr4(read_cr4() & ~CR4_VMXE);
    this_processor()->in_vmx = false;
}

bool vmx_enter(struct why *why)
{
    struct processor *self = this_processor();

    if (self->in_vmx)
        return true;
    if (!has_same_capabilities())
        return why_set(why, "its VT-x differs from the boot processor's");
    if (!allow_vmxon(why))
        return false;
    write_cr0((read_cr0() | vmx.cr0_must_be_1) & vmx.cr0_may_be_1);
    write_cr4((read_cr4() | CR4_VMXE | vmx.cr4_must_be_1) & vmx.cr4_may_be_1);

    if (!self->vmxon_region)
        self->vmxon_region = host_pages_alloc(1);
    if (!self->vmxon_region)
        return why_set(why, "no memory for the VMXON region");
    *self->vmxon_region = vmx.revision;

    uint64_t address = host_hpa(self->vmxon_region).v;
    bool failed;
    __asm__ volatile("vmxon %1" : "=@ccbe"(failed) : "m"(address) : "memory");
    if (failed || fault_capability("VMXON"))
        return why_set(why, "VMXON failed");
    self->in_vmx = true;
    return true;
}
