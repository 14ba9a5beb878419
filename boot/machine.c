/* SPDX-License-Identifier: BSD-2-Clause */
/* What the processor must have; each missing thing is named with its cure. Register names: SDM 2A
 * CPUID, 3D A. */
#include "arch/x86_64/cpu.h"
#include "boot/boot.h"

#define MSR_VMX_PROC  0x482u
#define MSR_VMX_PROC2 0x48bu

/* In the upper half of a capability MSR: the control may be 1 */
#define PROC_SECONDARY BIT(63)
#define PROC2_EPT      BIT(33)

static BOOLEAN has_ept(void)
{
    return (rdmsr(MSR_VMX_PROC) & PROC_SECONDARY) && (rdmsr(MSR_VMX_PROC2) & PROC2_EPT);
}

static BOOLEAN is_intel(void)
{
    struct cpuid_regs r = cpuid(0, 0);

    return r.ebx == 0x756e6547 && r.edx == 0x49656e69 && r.ecx == 0x6c65746e; /* "GenuineIntel" */
}

EFI_STATUS check_machine(BOOLEAN needs_vmx)
{
    if (!(cpuid(0x80000001, 0).edx & CPUID_EXT1_EDX_NX))
        return FAIL(EFI_UNSUPPORTED,
                    L"this processor shows no NX (execute disable). Enable it in the "
                    L"firmware's setup.");
    if (!needs_vmx)
        return EFI_SUCCESS;
    if (!(cpuid(1, 0).ecx & CPUID1_ECX_VMX)) {
        if (!is_intel())
            return FAIL(
                EFI_UNSUPPORTED,
                L"no VT-x: this is not an Intel processor, and Twofold runs on those with VT-x "
                L"only. Under QEMU it needs KVM with nested VMX (-enable-kvm -cpu host,+vmx).");
        return FAIL(
            EFI_UNSUPPORTED,
            L"no VT-x: this processor does not show it. On a machine of your own use one that "
            L"has VT-x; in a virtual machine turn nested virtualisation on.");
    }
    uint64_t control = rdmsr(MSR_FEATURE_CONTROL);
    if ((control & FEATURE_CONTROL_LOCK) && !(control & FEATURE_CONTROL_VMX_OUT_SMX))
        return FAIL(EFI_UNSUPPORTED,
                    L"VT-x is locked off by the firmware (IA32_FEATURE_CONTROL). Enable "
                    L"'Intel Virtualization Technology' in its setup, then switch the "
                    L"machine off and on.");
    if (!has_ept())
        return FAIL(EFI_UNSUPPORTED,
                    L"no EPT: this processor has VT-x without extended page tables. Use a "
                    L"newer one (Intel Core i of 2008 or later).");
    return EFI_SUCCESS;
}
