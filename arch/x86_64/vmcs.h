/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMCS: field encodings (SDM 3D appendix B), control bits (SDM 3C chapter 25), exit reasons
 * (appendix C). */
#ifndef ARCH_VMCS_H
#define ARCH_VMCS_H

#include <stdint.h>

enum vmcs_field {
    /* 16-bit */
    VMCS_VPID = 0x0000,
    VMCS_GUEST_ES_SELECTOR = 0x0800, /* then CS, SS, DS, FS, GS, LDTR, TR at steps of 2 */
    VMCS_GUEST_CS_SELECTOR = 0x0802,
    VMCS_GUEST_SS_SELECTOR = 0x0804,
    VMCS_GUEST_LDTR_SELECTOR = 0x080c,
    VMCS_GUEST_TR_SELECTOR = 0x080e,
    VMCS_GUEST_INTERRUPT_STATUS = 0x0810,
    VMCS_HOST_ES_SELECTOR = 0x0c00,
    VMCS_HOST_CS_SELECTOR = 0x0c02,
    VMCS_HOST_SS_SELECTOR = 0x0c04,
    VMCS_HOST_DS_SELECTOR = 0x0c06,
    VMCS_HOST_FS_SELECTOR = 0x0c08,
    VMCS_HOST_GS_SELECTOR = 0x0c0a,
    VMCS_HOST_TR_SELECTOR = 0x0c0c,
    /* 64-bit */
    VMCS_MSR_BITMAP = 0x2004,
    VMCS_XSS_EXITING_BITMAP = 0x202c,
    VMCS_EXIT_MSR_LOAD_ADDRESS = 0x2008,
    VMCS_ENTRY_MSR_LOAD_ADDRESS = 0x200a,
    VMCS_TSC_OFFSET = 0x2010,
    VMCS_VIRTUAL_APIC = 0x2012,
    VMCS_APIC_ACCESS = 0x2014,
    VMCS_EPT_POINTER = 0x201a,
    VMCS_EOI_EXIT_BITMAP0 = 0x201c, /* then 1, 2, 3 at steps of 2 */
    VMCS_GUEST_PHYSICAL_ADDRESS = 0x2400,
    VMCS_LINK_POINTER = 0x2800,
    VMCS_GUEST_DEBUGCTL = 0x2802,
    VMCS_GUEST_PAT = 0x2804,
    VMCS_GUEST_EFER = 0x2806,
    VMCS_GUEST_PERF_GLOBAL_CTRL = 0x2808,
    VMCS_GUEST_PDPTE0 = 0x280a, /* then 1, 2, 3 at steps of 2 */
    VMCS_HOST_PAT = 0x2c00,
    VMCS_HOST_EFER = 0x2c02,
    VMCS_HOST_PERF_GLOBAL_CTRL = 0x2c04,
    /* 32-bit */
    VMCS_PIN_CONTROLS = 0x4000,
    VMCS_PROC_CONTROLS = 0x4002,
    VMCS_EXCEPTION_BITMAP = 0x4004,
    VMCS_PF_ERROR_MASK = 0x4006,
    VMCS_PF_ERROR_MATCH = 0x4008,
    VMCS_CR3_TARGET_COUNT = 0x400a,
    VMCS_EXIT_CONTROLS = 0x400c,
    VMCS_EXIT_MSR_STORE_COUNT = 0x400e,
    VMCS_EXIT_MSR_LOAD_COUNT = 0x4010,
    VMCS_ENTRY_CONTROLS = 0x4012,
    VMCS_ENTRY_MSR_LOAD_COUNT = 0x4014,
    VMCS_ENTRY_INTERRUPTION = 0x4016,
    VMCS_ENTRY_ERROR_CODE = 0x4018,
    VMCS_ENTRY_INSTRUCTION_LENGTH = 0x401a,
    VMCS_TPR_THRESHOLD = 0x401c,
    VMCS_PROC_CONTROLS2 = 0x401e,
    VMCS_INSTRUCTION_ERROR = 0x4400,
    VMCS_EXIT_REASON = 0x4402,
    VMCS_EXIT_INTERRUPTION = 0x4404,
    VMCS_EXIT_ERROR_CODE = 0x4406,
    VMCS_IDT_VECTORING = 0x4408,
    VMCS_IDT_VECTORING_ERROR_CODE = 0x440a,
    VMCS_EXIT_INSTRUCTION_LENGTH = 0x440c,
    VMCS_EXIT_INSTRUCTION_INFO = 0x440e,
    VMCS_GUEST_ES_LIMIT = 0x4800, /* same order as the selectors, then GDTR, IDTR */
    VMCS_GUEST_GDTR_LIMIT = 0x4810,
    VMCS_GUEST_IDTR_LIMIT = 0x4812,
    VMCS_GUEST_ES_ACCESS = 0x4814, /* same order as the selectors */
    VMCS_GUEST_CS_ACCESS = 0x4816,
    VMCS_GUEST_SS_ACCESS = 0x4818,
    VMCS_GUEST_INTERRUPTIBILITY = 0x4824,
    VMCS_GUEST_ACTIVITY = 0x4826,
    VMCS_GUEST_SYSENTER_CS = 0x482a,
    VMCS_PREEMPTION_TIMER = 0x482e,
    VMCS_HOST_SYSENTER_CS = 0x4c00,
    /* natural width */
    VMCS_CR0_MASK = 0x6000,
    VMCS_CR4_MASK = 0x6002,
    VMCS_CR0_SHADOW = 0x6004,
    VMCS_CR4_SHADOW = 0x6006,
    VMCS_CR3_TARGET0 = 0x6008,
    VMCS_EXIT_QUALIFICATION = 0x6400,
    VMCS_GUEST_LINEAR_ADDRESS = 0x640a,
    VMCS_GUEST_CR0 = 0x6800,
    VMCS_GUEST_CR3 = 0x6802,
    VMCS_GUEST_CR4 = 0x6804,
    VMCS_GUEST_ES_BASE = 0x6806, /* same order as the selectors */
    VMCS_GUEST_CS_BASE = 0x6808,
    VMCS_GUEST_FS_BASE = 0x680e,
    VMCS_GUEST_GS_BASE = 0x6810,
    VMCS_GUEST_TR_BASE = 0x6814,
    VMCS_GUEST_GDTR_BASE = 0x6816,
    VMCS_GUEST_IDTR_BASE = 0x6818,
    VMCS_GUEST_DR7 = 0x681a,
    VMCS_GUEST_RSP = 0x681c,
    VMCS_GUEST_RIP = 0x681e,
    VMCS_GUEST_RFLAGS = 0x6820,
    VMCS_GUEST_PENDING_DEBUG = 0x6822,
    VMCS_GUEST_SYSENTER_ESP = 0x6824,
    VMCS_GUEST_SYSENTER_EIP = 0x6826,
    VMCS_HOST_CR0 = 0x6c00,
    VMCS_HOST_CR3 = 0x6c02,
    VMCS_HOST_CR4 = 0x6c04,
    VMCS_HOST_FS_BASE = 0x6c06,
    VMCS_HOST_GS_BASE = 0x6c08,
    VMCS_HOST_TR_BASE = 0x6c0a,
    VMCS_HOST_GDTR_BASE = 0x6c0c,
    VMCS_HOST_IDTR_BASE = 0x6c0e,
    VMCS_HOST_SYSENTER_ESP = 0x6c10,
    VMCS_HOST_SYSENTER_EIP = 0x6c12,
    VMCS_HOST_RSP = 0x6c14,
    VMCS_HOST_RIP = 0x6c16,
    VMCS_HOST_S_CET = 0x6c18,
    VMCS_HOST_SSP = 0x6c1a,
    VMCS_HOST_SSP_TABLE = 0x6c1c,
};

/* Segment registers in the order of their VMCS fields. */
enum vmcs_segment { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR };

/* Pin-based controls, SDM 3C table 25-5 */
#define PIN_EXTERNAL_INTERRUPT (1u << 0)
#define PIN_NMI                (1u << 3)
#define PIN_VIRTUAL_NMIS       (1u << 5)
#define PIN_PREEMPTION_TIMER   (1u << 6)

/* Primary processor-based controls, table 25-6 */
#define PROC_INTERRUPT_WINDOW  (1u << 2)
#define PROC_TSC_OFFSETTING    (1u << 3)
#define PROC_HLT               (1u << 7)
#define PROC_INVLPG            (1u << 9)
#define PROC_MWAIT             (1u << 10)
#define PROC_RDPMC             (1u << 11)
#define PROC_CR3_LOAD          (1u << 15)
#define PROC_CR3_STORE         (1u << 16)
#define PROC_CR8_LOAD          (1u << 19)
#define PROC_CR8_STORE         (1u << 20)
#define PROC_TPR_SHADOW        (1u << 21)
#define PROC_NMI_WINDOW        (1u << 22)
#define PROC_UNCONDITIONAL_IO  (1u << 24)
#define PROC_MONITOR_TRAP_FLAG (1u << 27)
#define PROC_MSR_BITMAPS       (1u << 28)
#define PROC_MONITOR           (1u << 29)
#define PROC_SECONDARY         (1u << 31)

/* Secondary processor-based controls, table 25-7 */
#define PROC2_APIC_ACCESSES      (1u << 0)
#define PROC2_EPT                (1u << 1)
#define PROC2_RDTSCP             (1u << 3)
#define PROC2_X2APIC             (1u << 4)
#define PROC2_VPID               (1u << 5)
#define PROC2_UNRESTRICTED_GUEST (1u << 7)
#define PROC2_APIC_REGISTERS     (1u << 8)
#define PROC2_VIRTUAL_INTERRUPTS (1u << 9)
#define PROC2_INVPCID            (1u << 12)
#define PROC2_XSAVES             (1u << 20)

/* VM-exit controls, table 25-13 */
#define EXIT_SAVE_DEBUG            (1u << 2)
#define EXIT_HOST_64BIT            (1u << 9)
#define EXIT_LOAD_PERF_GLOBAL_CTRL (1u << 12)
#define EXIT_ACKNOWLEDGE_INTERRUPT (1u << 15)
#define EXIT_SAVE_PAT              (1u << 18)
#define EXIT_LOAD_PAT              (1u << 19)
#define EXIT_SAVE_EFER             (1u << 20)
#define EXIT_LOAD_EFER             (1u << 21)
#define EXIT_SAVE_TIMER            (1u << 22)
#define EXIT_LOAD_CET              (1u << 28)

/* VM-entry controls, table 25-15 */
#define ENTRY_LOAD_DEBUG            (1u << 2)
#define ENTRY_IA32E                 (1u << 9)
#define ENTRY_LOAD_PERF_GLOBAL_CTRL (1u << 13)
#define ENTRY_LOAD_PAT              (1u << 14)
#define ENTRY_LOAD_EFER             (1u << 15)

/* Segment access rights, table 25-2: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15 */
#define ACCESS_CODE64   0xa09bu /* execute, read, accessed; S; P; L; G */
#define ACCESS_CODE32   0xc09bu /* the same, D instead of L */
#define ACCESS_DATA     0xc093u /* read, write, accessed; S; P; B; G */
#define ACCESS_CODE16   0x009bu /* execute, read, accessed; S; P */
#define ACCESS_DATA16   0x0093u /* read, write, accessed; S; P */
#define ACCESS_LDT      0x0082u /* LDT; P */
#define ACCESS_TSS_BUSY 0x008bu /* busy TSS; P */
#define ACCESS_UNUSABLE (1u << 16)
#define ACCESS_L        (1u << 13)
#define ACCESS_DB       (1u << 14)
#define ACCESS_DPL(a)   ((a) >> 5 & 3)

/* Interruption information (exit, IDT-vectoring, entry), tables 25-17 to 25-19 */
#define INTERRUPTION_VECTOR      0xffu
#define INTERRUPTION_TYPE        (7u << 8)
#define INTERRUPTION_EXTERNAL    (0u << 8)
#define INTERRUPTION_NMI         (2u << 8)
#define INTERRUPTION_HARDWARE    (3u << 8)
#define INTERRUPTION_SOFTWARE    (4u << 8)
#define INTERRUPTION_PRIVILEGED  (5u << 8)
#define INTERRUPTION_SOFTWARE_EX (6u << 8)
#define INTERRUPTION_ERROR_CODE  (1u << 11)
#define INTERRUPTION_NMI_UNBLOCK (1u << 12) /* of an exit: IRET had ended the blocking by NMI */
#define INTERRUPTION_VALID       (1u << 31)

/* Interruptibility state, table 25-3 */
#define BLOCKING_STI    (1u << 0)
#define BLOCKING_MOV_SS (1u << 1)
#define BLOCKING_NMI    (1u << 3)

#define PENDING_DEBUG_BS (1u << 14) /* single step, table 25-4 */

/* Exit qualification of an EPT violation, table 28-7 */
#define EPT_VIOLATION_READ         (1u << 0)
#define EPT_VIOLATION_WRITE        (1u << 1)
#define EPT_VIOLATION_FETCH        (1u << 2)
#define EPT_VIOLATION_LINEAR_VALID (1u << 7)
#define EPT_VIOLATION_FINAL        (1u << 8) /* with LINEAR_VALID: the access itself, not a table's */
#define EPT_VIOLATION_NMI_UNBLOCK  (1u << 12)

#define INTERRUPT_STATUS_SVI_SHIFT 8 /* RVI 7:0, SVI 15:8, SDM 3C 25.4.2 */

/* Exit qualification of an APIC access, table 28-6 */
#define APIC_ACCESS_OFFSET  0xfffu
#define APIC_ACCESS_TYPE(q) ((unsigned)((q) >> 12) & 15)
enum apic_access_type {
    APIC_ACCESS_READ = 0,
    APIC_ACCESS_WRITE = 1
}; /* linear, by an instruction */

#define EXIT_REASON_BASIC   0xffffu
#define EXIT_REASON_FAILURE (1u << 31) /* VM-entry failure */

enum exit_reason {
    EXIT_EXCEPTION_NMI = 0,
    EXIT_EXTERNAL_INTERRUPT = 1,
    EXIT_TRIPLE_FAULT = 2,
    EXIT_INIT = 3,
    EXIT_SIPI = 4,
    EXIT_IO_SMI = 5,
    EXIT_OTHER_SMI = 6,
    EXIT_INTERRUPT_WINDOW = 7,
    EXIT_NMI_WINDOW = 8,
    EXIT_TASK_SWITCH = 9,
    EXIT_CPUID = 10,
    EXIT_GETSEC = 11,
    EXIT_HLT = 12,
    EXIT_INVD = 13,
    EXIT_INVLPG = 14,
    EXIT_RDPMC = 15,
    EXIT_RDTSC = 16,
    EXIT_RSM = 17,
    EXIT_VMCALL = 18,
    EXIT_VMCLEAR = 19,
    EXIT_VMLAUNCH = 20,
    EXIT_VMPTRLD = 21,
    EXIT_VMPTRST = 22,
    EXIT_VMREAD = 23,
    EXIT_VMRESUME = 24,
    EXIT_VMWRITE = 25,
    EXIT_VMXOFF = 26,
    EXIT_VMXON = 27,
    EXIT_CR_ACCESS = 28,
    EXIT_DR_ACCESS = 29,
    EXIT_IO = 30,
    EXIT_RDMSR = 31,
    EXIT_WRMSR = 32,
    EXIT_INVALID_STATE = 33,
    EXIT_MSR_LOADING = 34,
    EXIT_MWAIT = 36,
    EXIT_MONITOR_TRAP_FLAG = 37,
    EXIT_MONITOR = 39,
    EXIT_PAUSE = 40,
    EXIT_MACHINE_CHECK = 41,
    EXIT_TPR_THRESHOLD = 43,
    EXIT_APIC_ACCESS = 44,
    EXIT_VIRTUALIZED_EOI = 45,
    EXIT_GDTR_IDTR = 46,
    EXIT_LDTR_TR = 47,
    EXIT_EPT_VIOLATION = 48,
    EXIT_EPT_MISCONFIGURATION = 49,
    EXIT_INVEPT = 50,
    EXIT_RDTSCP = 51,
    EXIT_PREEMPTION_TIMER = 52,
    EXIT_INVVPID = 53,
    EXIT_WBINVD = 54,
    EXIT_XSETBV = 55,
    EXIT_APIC_WRITE = 56,
    EXIT_RDRAND = 57,
    EXIT_INVPCID = 58,
    EXIT_VMFUNC = 59,
    EXIT_ENCLS = 60,
    EXIT_RDSEED = 61,
    EXIT_PML_FULL = 62,
    EXIT_XSAVES = 63,
    EXIT_XRSTORS = 64,
    EXIT_REASONS
};

/* A field of the current VMCS. Reading or writing one that does not exist is our own mistake: the
 * instruction fails silently here, and the VM entry that follows says so. */
static inline uint64_t vmread(enum vmcs_field field)
{
    uint64_t value;

    __asm__ volatile("vmread %1, %0" : "=rm"(value) : "r"((uint64_t)field) : "cc");
    return value;
}

static inline uint32_t vmread32(enum vmcs_field field)
{
    return (uint32_t)vmread(field);
}

static inline void vmwrite(enum vmcs_field field, uint64_t value)
{
    __asm__ volatile("vmwrite %1, %0" : : "r"((uint64_t)field), "rm"(value) : "cc", "memory");
}

/* Fields that exist once a segment or register, at steps of 2. */
static inline enum vmcs_field vmcs_nth(enum vmcs_field first, unsigned n)
{
    return (enum vmcs_field)(first + 2 * n);
}

#endif
