/* SPDX-License-Identifier: BSD-2-Clause */
/* See guest_cpu.h. */
#include "arch/x86_64/guest_cpu.h"

#include <string.h>

#include "arch/x86_64/speculation.h"
#include "arch/x86_64/vcpu.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/guest_abi.h"

/* --- CPUID: what is offered, by register; all else reads 0 ------------------------------------ */

/* SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, OSXSAVE
 * (replaced), AVX, F16C, RDRAND; x2APIC and TSC-deadline are ours, whatever the processor has */
#define OFFER_1_ECX                                                                                \
    (BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | CPUID1_ECX_PCID | BIT(19) | BIT(20) |          \
     BIT(22) | BIT(23) | BIT(25) | CPUID1_ECX_XSAVE | BIT(28) | BIT(29) | BIT(30))
/* FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, PAT, PSE-36, CLFLUSH, MMX, FXSR, SSE,
 * SSE2, SS; APIC (follows IA32_APIC_BASE) and MTRRs are ours */
#define OFFER_1_EDX                                                                                \
    (BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(13) |   \
     BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | BIT(27))
/* TSC_ADJUST is ours; FSGSBASE, BMI1, AVX2, FDP, SMEP, BMI2, ERMS, INVPCID, no FPU CS/DS, AVX-512
 * F/DQ, RDSEED, ADX, SMAP, AVX-512 IFMA, CLFLUSHOPT, CLWB, AVX-512 CD, SHA, AVX-512 BW/VL */
#define OFFER_7_EBX                                                                                \
    (CPUID7_EBX_FSGSBASE | BIT(3) | BIT(5) | BIT(6) | CPUID7_EBX_SMEP | BIT(8) | BIT(9) |          \
     CPUID7_EBX_INVPCID | BIT(13) | BIT(16) | BIT(17) | BIT(18) | BIT(19) | CPUID7_EBX_SMAP |      \
     BIT(21) | BIT(23) | BIT(24) | BIT(28) | BIT(29) | BIT(30) | BIT(31))
/* AVX-512 VBMI, UMIP, PKU, OSPKE (replaced), AVX-512 VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG,
 * VPOPCNTDQ, RDPID (with RDTSCP only) */
#define OFFER_7_ECX                                                                                \
    (BIT(1) | CPUID7_ECX_UMIP | CPUID7_ECX_PKU | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) |    \
     BIT(12) | BIT(14) | CPUID7_ECX_RDPID)
#define CPUID7_ECX_RDPID   BIT(22)
#define CPUID7_ECX_OSPKE   BIT(4)
#define CPUID1_ECX_OSXSAVE BIT(27)
/* Fast short REP MOV, MD_CLEAR (VERW does in a guest what it does anywhere); nothing of speculation
 * control, whose MSRs are not offered */
#define OFFER_7_EDX (BIT(4) | CPUID7_EDX_MD_CLEAR)
/* XSAVEOPT, XGETBV with ECX = 1; XSAVEC where it works, and XSAVES where VT-x lets guests have it
 */
#define OFFER_D1_EAX (BIT(0) | BIT(2))
/* XCR0, SDM 1 13.3: what belongs to the features above; not MPX, not AMX */
#define XCR0_X87        BIT(0)
#define XCR0_SSE        BIT(1)
#define XCR0_AVX        BIT(2)
#define XCR0_AVX512     (BIT(5) | BIT(6) | BIT(7))
#define XCR0_PKRU       BIT(9)
#define OFFER_XCR0      (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | XCR0_PKRU)
#define XSAVE_ALIGNED   BIT(1) /* of ECX in a component's sub-leaf */
#define XSAVE_ALIGNMENT 64u
#define XSAVE_LEGACY    576u /* bytes of the XSAVE area before the first component of its own */
/* LAHF in 64-bit mode, LZCNT, PREFETCHW */
#define OFFER_EXT1_ECX (BIT(0) | BIT(5) | BIT(8))
/* SYSCALL, NX, 1-GiB pages, RDTSCP, long mode */
#define OFFER_EXT1_EDX                                                                             \
    (BIT(11) | CPUID_EXT1_EDX_NX | CPUID_EXT1_EDX_1G | CPUID_EXT1_EDX_RDTSCP | BIT(29))
#define OFFER_EXT7_EDX BIT(8) /* invariant TSC */

#define CPUID1_ECX_DEADLINE   BIT(24)
#define CPUID1_EDX_APIC       BIT(9)
#define CPUID1_EDX_MTRR       BIT(12)
#define CPUID1_EDX_HTT        BIT(28)
#define CPUID1_EBX_APIC_ID    0xff000000u
#define CPUID1_EBX_ID_SHIFT   24
#define CPUID1_EBX_COUNT      16
#define CPUID1_EBX_LOGICAL    0x00ff0000u
#define CPUID4_EAX_SHARING    0xffffc000u /* processors that share the cache, cores in the package */
#define LEAF_HIGHEST          0x16u
#define HZ_PER_KHZ            1000u
#define LEAF_EXT              0x80000000u
#define LEAF_EXT_HIGHEST      0x80000008u
#define PHYSICAL_BITS_DEFAULT 36u

/* What the real processor has, read once: CPUID is slow, and exits where Twofold is a guest itself.
 */
static struct {
    uint32_t highest_leaf;
    uint64_t xcr0;       /* offered */
    uint32_t xsave_size; /* bytes, for all of xcr0 */
    bool compaction;     /* XSAVE's compacted form is there, and works */
    unsigned physical_bits;
    bool has_1g_pages;
    unsigned apic_ratio; /* TSC ticks to one of the guests' APIC timers, undivided */
} real;

uint64_t guest_xcr0_offered(void)
{
    return real.xcr0;
}

/* The XSAVE area's size for all components that are offered: where the last of them ends. */
static uint32_t xsave_area_size(void)
{
    uint32_t size = XSAVE_LEGACY;

    for (uint32_t component = 2; component < 64; component++) {
        struct cpuid_regs r = cpuid(0xd, component);
        if ((real.xcr0 >> component & 1) && r.ebx + r.eax > size)
            size = r.ebx + r.eax;
    }
    return size;
}

/* The XSAVE area's size in the compacted format for what the guest's XCR0 enables, SDM 1 13.4.3:
 * computed, since not all emulators' leaf has it. */
static uint32_t compacted_size(void)
{
    uint64_t enabled = read_xcr0() & real.xcr0;
    uint32_t size = XSAVE_LEGACY;

    for (uint32_t component = 2; component < 64; component++) {
        if (!(enabled >> component & 1))
            continue;
        struct cpuid_regs r = cpuid(0xd, component);
        if (r.ecx & XSAVE_ALIGNED)
            size = (uint32_t)align_up(size, XSAVE_ALIGNMENT);
        size += r.eax;
    }
    return size;
}

static uint64_t xsave_forms(void)
{
    if (!real.compaction)
        return OFFER_D1_EAX;
    return OFFER_D1_EAX | CPUIDD1_EAX_XSAVEC | (vmx.xsaves ? CPUIDD1_EAX_XSAVES : 0);
}

/* CPUID leaf 0xd, `r` as the processor gives it. EBX of sub-leaf 0 follows XCR0, which is the
 * guest's. */
static struct cpuid_regs xsave_leaf(struct cpuid_regs r, uint32_t subleaf)
{
    if (subleaf == 0)
        return (struct cpuid_regs){
            .eax = (uint32_t)real.xcr0, .ebx = r.ebx, .ecx = real.xsave_size};
    if (subleaf == 1)
        return (struct cpuid_regs){.eax = r.eax & (uint32_t)xsave_forms(), .ebx = compacted_size()};
    return subleaf < 64 && (real.xcr0 >> subleaf & 1) ? r : (struct cpuid_regs){0};
}

/*
 * TSC and core crystal clock: the TSC's frequency, exactly, without a calibration by the guest. The
 * crystal is the APIC timer's clock, too (SDM 3A 11.5.4).
 */
static struct cpuid_regs crystal_leaf(void)
{
    return (struct cpuid_regs){
        .eax = 1, .ebx = real.apic_ratio, .ecx = (uint32_t)(time_hz() / real.apic_ratio)};
}

/* OSXSAVE and OSPKE are left out: they follow the guest's CR4. */
static struct cpuid_regs basic_leaf(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_regs r = cpuid(leaf, subleaf);

    if (leaf == 0x15)
        return crystal_leaf();
    if (leaf > real.highest_leaf) /* the processor would answer with its highest leaf */
        return (struct cpuid_regs){0};
    switch (leaf) {
    case 0x0:
        r.eax = LEAF_HIGHEST;
        return r;
    case 0x1:
        r.ebx &= ~(CPUID1_EBX_APIC_ID | CPUID1_EBX_LOGICAL);
        r.ecx &= OFFER_1_ECX;
        r.ecx |= (uint32_t)(CPUID1_ECX_HYPERVISOR | CPUID1_ECX_X2APIC | CPUID1_ECX_DEADLINE);
        r.edx &= OFFER_1_EDX;
        r.edx |= (uint32_t)CPUID1_EDX_MTRR;
        return r;
    case 0x2: /* caches */
        return r;
    case 0x4: /* caches; one processor alone */
        r.eax &= ~CPUID4_EAX_SHARING;
        return r;
    case 0x7:
        if (subleaf != 0)
            break;
        r.eax = 0;
        r.ebx &= OFFER_7_EBX & (vmx.invpcid ? ~0ull : ~CPUID7_EBX_INVPCID);
        r.ebx |= (uint32_t)CPUID7_EBX_TSC_ADJUST;
        r.ecx &= OFFER_7_ECX & (vmx.rdtscp ? ~0ull : ~CPUID7_ECX_RDPID);
        r.edx &= OFFER_7_EDX;
        return r;
    case 0xd:
        return xsave_leaf(r, subleaf);
    case 0x16: /* frequencies */
        return r;
    default: /* power, performance counters, topology, SGX, tracing: not offered */
        break;
    }
    return (struct cpuid_regs){0};
}

static struct cpuid_regs extended_leaf(uint32_t leaf)
{
    struct cpuid_regs r = cpuid(leaf, 0);

    switch (leaf) {
    case 0x80000000:
        if (r.eax > LEAF_EXT_HIGHEST)
            r.eax = LEAF_EXT_HIGHEST;
        return r;
    case 0x80000001:
        r.ecx &= OFFER_EXT1_ECX;
        r.edx &= OFFER_EXT1_EDX & (vmx.rdtscp ? ~0ull : ~CPUID_EXT1_EDX_RDTSCP);
        return r;
    case 0x80000002: /* brand string */
    case 0x80000003:
    case 0x80000004:
    case 0x80000006: /* caches */
        return r;
    case 0x80000007:
        return (struct cpuid_regs){.edx = r.edx & OFFER_EXT7_EDX};
    case 0x80000008: /* address widths */
        return (struct cpuid_regs){.eax = r.eax};
    default:
        return (struct cpuid_regs){0};
    }
}

static struct cpuid_regs hypervisor_leaf(uint32_t leaf)
{
    struct cpuid_regs r = {0};

    if (leaf == TF_CPUID_SIGNATURE) {
        r.eax = TF_CPUID_TIMING;
        memcpy(&r.ebx, TF_SIGNATURE, 4);
        memcpy(&r.ecx, &TF_SIGNATURE[4], 4);
        memcpy(&r.edx, &TF_SIGNATURE[8], 4);
    } else if (leaf == TF_CPUID_ABI) {
        r.eax = TF_ABI_VERSION;
    } else if (leaf == TF_CPUID_TIMING) {
        r.eax = (uint32_t)(time_hz() / HZ_PER_KHZ);
        r.ebx = (uint32_t)(time_hz() / real.apic_ratio / HZ_PER_KHZ);
    }
    return r;
}

/* Leaves without sub-leaves, as the guest sees them. */
static struct cpuid_regs kept_basic[LEAF_HIGHEST + 1];
static struct cpuid_regs kept_extended[LEAF_EXT_HIGHEST - LEAF_EXT + 1];

static bool has_subleaves(uint32_t leaf)
{
    return leaf == 0x4 || leaf == 0x7 || leaf == 0xb || leaf == 0xd;
}

/* About 25 MHz, as crystals have it, so that the APIC timers' 32 bits last for minutes. */
#define CRYSTAL_HZ 25000000u

unsigned arch_apic_ratio(void)
{
    return real.apic_ratio;
}

void guest_cpu_init(void)
{
    real.apic_ratio = (unsigned)max_u64(time_hz() / CRYSTAL_HZ, 1);
    real.highest_leaf = cpuid(0, 0).eax;
    if (cpuid(1, 0).ecx & CPUID1_ECX_XSAVE)
        real.xcr0 = cpuid(0xd, 0).eax & OFFER_XCR0;
    real.xsave_size = xsave_area_size();
    if (real.xcr0 && (cpuid(0xd, 1).eax & CPUIDD1_EAX_XSAVEC)) {
        real.compaction = xsave_compaction_works();
        if (!real.compaction) {
            log_line("xsave: this processor's compacted form loses state; guests do without");
            vmx.proc2 &= ~PROC2_XSAVES;
            vmx.xsaves = false;
        }
    }
    for (uint32_t leaf = 0; leaf <= LEAF_HIGHEST; leaf++)
        kept_basic[leaf] = basic_leaf(leaf, 0);
    for (uint32_t leaf = LEAF_EXT; leaf <= LEAF_EXT_HIGHEST; leaf++)
        kept_extended[leaf - LEAF_EXT] = extended_leaf(leaf);
    real.has_1g_pages = (kept_extended[1].edx & CPUID_EXT1_EDX_1G) != 0;
    real.physical_bits = cpuid(LEAF_EXT, 0).eax >= LEAF_EXT_HIGHEST
                             ? kept_extended[LEAF_EXT_HIGHEST - LEAF_EXT].eax & 0xff
                             : PHYSICAL_BITS_DEFAULT;
}

/* The bits that follow CR4. */
static struct cpuid_regs with_cr4(struct cpuid_regs r, uint32_t leaf, uint64_t cr4)
{
    if (leaf == 0x1 && (cr4 & CR4_OSXSAVE))
        r.ecx |= (uint32_t)CPUID1_ECX_OSXSAVE;
    if (leaf == 0x7 && (cr4 & CR4_PKE))
        r.ecx |= (uint32_t)CPUID7_ECX_OSPKE;
    return r;
}

struct cpuid_regs guest_cpuid(uint32_t leaf, uint32_t subleaf, uint64_t cr4)
{
    if (leaf <= LEAF_HIGHEST)
        return with_cr4(has_subleaves(leaf) ? basic_leaf(leaf, subleaf) : kept_basic[leaf], leaf,
                        cr4);
    if (leaf >= LEAF_EXT && leaf <= LEAF_EXT_HIGHEST)
        return kept_extended[leaf - LEAF_EXT];
    if (leaf >= TF_CPUID_SIGNATURE && leaf < LEAF_EXT)
        return hypervisor_leaf(leaf);
    return (struct cpuid_regs){0};
}

/* The level below which the APIC id counts processors of one package, CPUID leaf 0xb. */
static unsigned id_bits(unsigned processors)
{
    unsigned bits = 0;

    while (1u << bits < processors)
        bits++;
    return bits;
}

#define TOPOLOGY_SMT  (1u << 8) /* level types of leaf 0xb, ECX 15:8 */
#define TOPOLOGY_CORE (2u << 8)

/* One package of cores without hyper-threads, SDM 3A 9.9. */
static struct cpuid_regs topology_leaf(const struct vcpu *vcpu, uint32_t subleaf)
{
    unsigned count = vcpu->vm->vcpu_count;
    struct cpuid_regs r = {.ecx = subleaf & 0xff, .edx = vcpu->index};

    if (subleaf == 0) {
        r.ebx = 1;
        r.ecx |= TOPOLOGY_SMT;
    } else if (subleaf == 1) {
        r.eax = id_bits(count);
        r.ebx = count;
        r.ecx |= TOPOLOGY_CORE;
    }
    return r;
}

#define CPUID4_CORES_SHIFT 26

struct cpuid_regs guest_cpuid_processor(const struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf,
                                        struct cpuid_regs r)
{
    unsigned count = vcpu->vm->vcpu_count;
    uint64_t base = 0;

    switch (leaf) {
    case 0x1:
        r.ebx |= vcpu->index << CPUID1_EBX_ID_SHIFT;
        if (count > 1) {
            r.ebx |= count << CPUID1_EBX_COUNT;
            r.edx |= (uint32_t)CPUID1_EDX_HTT;
        }
        (void)interrupts_read_msr(&vcpu->vm->devices.interrupts, vcpu->index, MSR_APIC_BASE, &base);
        if (base & APIC_BASE_ENABLE)
            r.edx |= (uint32_t)CPUID1_EDX_APIC;
        return r;
    case 0x4:
        if (r.eax != 0) /* there is such a cache */
            r.eax |= ((1u << id_bits(count)) - 1) << CPUID4_CORES_SHIFT;
        return r;
    default:
        return topology_leaf(vcpu, subleaf);
    }
}

unsigned guest_physical_bits(void)
{
    return real.physical_bits;
}

bool guest_has_1g_pages(void)
{
    return real.has_1g_pages;
}

/* --- control registers ------------------------------------------------------------------------ */

/*
 * PG is owned to keep EFER.LMA, the entry controls and the PDPTE registers in step with it; CD and
 * NW, because a guest must not turn off the machine's caches; PE where it cannot change.
 */
uint64_t guest_cr0_owned(void)
{
    uint64_t free = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_WP | CR0_AM;

    return vmx.unrestricted_guest ? ~free : ~free | CR0_PE;
}

uint64_t guest_cr0_real(uint64_t cr0)
{
    return (cr0 & ~(CR0_CD | CR0_NW)) | CR0_NE | CR0_ET;
}

/* Bits of CR4 that come with a CPUID feature, beside those that every 64-bit processor has. */
static uint64_t cr4_allowed(void)
{
    struct cpuid_regs one = guest_cpuid(1, 0, 0);
    struct cpuid_regs seven = guest_cpuid(7, 0, 0);

    return CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
           CR4_OSFXSR | CR4_OSXMMEXCPT | (one.ecx & CPUID1_ECX_PCID ? CR4_PCIDE : 0) |
           (one.ecx & CPUID1_ECX_XSAVE ? CR4_OSXSAVE : 0) |
           (seven.ebx & CPUID7_EBX_FSGSBASE ? CR4_FSGSBASE : 0) |
           (seven.ebx & CPUID7_EBX_SMEP ? CR4_SMEP : 0) |
           (seven.ebx & CPUID7_EBX_SMAP ? CR4_SMAP : 0) |
           (seven.ecx & CPUID7_ECX_UMIP ? CR4_UMIP : 0) |
           (seven.ecx & CPUID7_ECX_PKU ? CR4_PKE : 0);
}

uint64_t guest_cr4_owned(void)
{
    return ~cr4_allowed();
}

uint64_t guest_efer_allowed(void)
{
    return EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
}

static bool all_or_none(uint64_t value, uint64_t bits)
{
    return (value & bits) == 0 || (value & bits) == bits;
}

bool guest_xcr0_valid(uint64_t value)
{
    return (value & ~guest_xcr0_offered()) == 0 && (value & XCR0_X87) &&
           (!(value & XCR0_AVX) || (value & XCR0_SSE)) &&
           (!(value & XCR0_AVX512) || (value & XCR0_AVX)) && all_or_none(value, XCR0_AVX512);
}

/* --- MSRs ------------------------------------------------------------------------------------- */

#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MISC_ENABLE_NO_BTS       BIT(11)
#define MISC_ENABLE_NO_PEBS      BIT(12)

#define UNKNOWN_MSR_LINES 32u

/* A line in the log, up to a number a VM: a guest that tries all MSRs must not fill the console. */
static void log_unknown_msr(struct vcpu *vcpu, const char *instruction, uint32_t msr)
{
    const char *name = vcpu->vm->settings->name;
    unsigned lines = vcpu->arch->unknown_msr_lines++;

    if (lines < UNKNOWN_MSR_LINES)
        log_line("%s: %s 0x%x, which there is not: #GP", name, instruction, msr);
    else if (lines == UNKNOWN_MSR_LINES)
        log_line("%s: further MSRs that there are not go without a line", name);
}

bool guest_read_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    if (interrupts_has_msr(msr)) {
        if (!interrupts_read_msr(&vcpu->vm->devices.interrupts, vcpu->index, msr, value))
            return false;
        if (msr == MSR_TSC_DEADLINE && *value != 0)
            *value += (uint64_t)vcpu->tsc_adjust;
        return true;
    }
    switch (msr) {
    case MSR_TSC_ADJUST:
        *value = (uint64_t)vcpu->tsc_adjust;
        return true;
    case MSR_TSC:
        *value = vm_time(vcpu->vm) + (uint64_t)vcpu->tsc_adjust;
        return true;
    case MSR_EFER:
        *value = vmread(VMCS_GUEST_EFER);
        return true;
    case MSR_BIOS_SIGN_ID: /* microcode: none loaded */
    case MSR_MCG_CAP:      /* no machine-check banks */
    case MSR_MCG_STATUS:
    case MSR_DEBUGCTL:
        *value = 0;
        return true;
    case MSR_XSS: /* no supervisor state is offered, CPUID.(0xd,1):ECX */
        *value = 0;
        return vmx.xsaves;
    case MSR_MISC_ENABLE:
        *value = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS;
        return true;
    default:
        if (guest_mtrr_read(&vcpu->arch->mtrrs, msr, value))
            return true;
        log_unknown_msr(vcpu, "RDMSR of", msr);
        return false;
    }
}

/* SDM 3A 2.2.1: reserved bits, and LME while paging is on, give #GP. LMA is the processor's. */
static bool write_efer(uint64_t value)
{
    uint64_t old = vmread(VMCS_GUEST_EFER);
    bool paging = (vmread(VMCS_GUEST_CR0) & CR0_PG) != 0;

    if ((value & ~guest_efer_allowed()) || (paging && ((value ^ old) & EFER_LME)))
        return false;
    vmwrite(VMCS_GUEST_EFER, (value & ~EFER_LMA) | (old & EFER_LMA));
    return true;
}

/* A deadline of the guest's TSC in the VM's time. What lies before its beginning or beyond its end
 * is at once or never. */
static uint64_t vm_deadline(uint64_t value, int64_t adjust)
{
    uint64_t by = adjust < 0 ? 0 - (uint64_t)adjust : (uint64_t)adjust;

    if (adjust >= 0)
        return value > by ? value - by : 1;
    return value < UINT64_MAX - 1 - by ? value + by : UINT64_MAX - 1;
}

bool guest_write_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    if (interrupts_has_msr(msr)) {
        /* The devices' time is the VM's. */
        if (msr == MSR_TSC_DEADLINE && value != 0)
            value = vm_deadline(value, vcpu->tsc_adjust);
        return interrupts_write_msr(&vcpu->vm->devices.interrupts, vcpu->index, msr, value);
    }
    switch (msr) {
    case MSR_TSC_ADJUST: /* SDM 3B 18.17.3: what is written to either shows in both */
        vcpu->tsc_adjust = (int64_t)value;
        vcpu_set_tsc_offset(vcpu);
        return true;
    case MSR_TSC:
        vcpu->tsc_adjust = (int64_t)(value - vm_time(vcpu->vm));
        vcpu_set_tsc_offset(vcpu);
        return true;
    case MSR_EFER:
        if (vcpu->vm->paging.cpt)
            paging_catch_up(vcpu);
        if (!write_efer(value))
            return false;
        if (vcpu->vm->paging.cpt)
            paging_invalidated(vcpu);
        vcpu_flush_tlb(vcpu); /* NXE changes what translations mean */
        return true;
    case MSR_BIOS_SIGN_ID: /* the way to ask for the microcode's version */
    case MSR_MISC_ENABLE:
    case MSR_MCG_STATUS:
        return true;
    case MSR_XSS:
        return vmx.xsaves && value == 0;
    case MSR_DEBUGCTL:
        return value == 0;
    default:
        if (guest_mtrr_write(&vcpu->arch->mtrrs, msr, value))
            return true;
        log_unknown_msr(vcpu, "WRMSR to", msr);
        return false;
    }
}
