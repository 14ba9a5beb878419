/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's state that VT-x does not switch; see vcpu.h. */
#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/vcpu.h"
#include "hv/arch.h"

#define FXSAVE_BYTES 512
#define FCW_RESET    0x37fu  /* after FNINIT, SDM 1 8.1.5 */
#define MXCSR_RESET  0x1f80u /* SDM 1 10.2.3 */
#define DR6_RESET    0xffff0ff0ull
#define XCR0_X87     BIT(0)
#define XSAVE_ALL    0xffffffffu

/* The first bytes of an FXSAVE or XSAVE area, SDM 1 10.5.1. */
struct fxsave_header {
    uint16_t fcw;
    uint8_t rest[22];
    uint32_t mxcsr;
};

static bool has_xsave(void)
{
    return (cpuid(1, 0).ecx & CPUID1_ECX_XSAVE) != 0;
}

/* CPUID.(D,0):ECX, SDM 1 13.2: the size when all that the processor has is enabled. */
size_t context_fpu_pages(void)
{
    size_t bytes = has_xsave() ? cpuid(0xd, 0).ecx : FXSAVE_BYTES;

    return (size_t)(align_up(bytes, PAGE_SIZE) / PAGE_SIZE);
}

/* The state after reset; context->fpu is zeroed memory, whose XSTATE_BV of 0 means initial state.
 */
void context_init(struct guest_context *context)
{
    struct fxsave_header *fpu = context->fpu;

    fpu->fcw = FCW_RESET;
    fpu->mxcsr = MXCSR_RESET;
    context->dr6 = DR6_RESET;
    context->xcr0 = XCR0_X87;
}

/* All components are loaded and saved, whatever the guest's XCR0 enables now. */
void context_load(const struct guest_context *context)
{
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | (has_xsave() ? CR4_OSXSAVE : 0));
    if (has_xsave()) {
        write_xcr0(guest_xcr0_offered());
        if (vmx.xsaves)
            wrmsr(MSR_XSS, 0); /* the guest's, for good */
        __asm__ volatile("xrstor64 (%0)"
                         :
                         : "r"(context->fpu), "a"(XSAVE_ALL), "d"(XSAVE_ALL)
                         : "memory");
        write_xcr0(context->xcr0);
    } else {
        __asm__ volatile("fxrstor64 (%0)" : : "r"(context->fpu) : "memory");
    }
    wrmsr(MSR_STAR, context->star);
    wrmsr(MSR_LSTAR, context->lstar);
    wrmsr(MSR_CSTAR, context->cstar);
    wrmsr(MSR_FMASK, context->fmask);
    wrmsr(MSR_KERNEL_GS_BASE, context->kernel_gs_base);
    if (vmx.rdtscp)
        wrmsr(MSR_TSC_AUX, context->tsc_aux);
    write_dr0(context->dr[0]);
    write_dr1(context->dr[1]);
    write_dr2(context->dr[2]);
    write_dr3(context->dr[3]);
    write_dr6(context->dr6);
    write_cr2(context->cr2);
}

void context_save(struct guest_context *context)
{
    context->cr2 = read_cr2();
    context->dr[0] = read_dr0();
    context->dr[1] = read_dr1();
    context->dr[2] = read_dr2();
    context->dr[3] = read_dr3();
    context->dr6 = read_dr6();
    context->star = rdmsr(MSR_STAR);
    context->lstar = rdmsr(MSR_LSTAR);
    context->cstar = rdmsr(MSR_CSTAR);
    context->fmask = rdmsr(MSR_FMASK);
    context->kernel_gs_base = rdmsr(MSR_KERNEL_GS_BASE);
    if (vmx.rdtscp)
        context->tsc_aux = rdmsr(MSR_TSC_AUX);
    if (has_xsave()) {
        context->xcr0 = read_xcr0();
        write_xcr0(guest_xcr0_offered());
        __asm__ volatile("xsave64 (%0)"
                         :
                         : "r"(context->fpu), "a"(XSAVE_ALL), "d"(XSAVE_ALL)
                         : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" : : "r"(context->fpu) : "memory");
    }
}
