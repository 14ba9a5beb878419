/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this processor's speculation needs of a hypervisor, decided by what it says of itself:
 * capabilities in, guards out. Intel's guidance is on its developer pages ("Speculative Execution
 * Side Channel Mitigations" and one page for each issue); the bits are in SDM 4 table 2-2
 * (IA32_ARCH_CAPABILITIES) and SDM 2A, CPUID leaf 7. guards.c and vmentry.S do what is decided
 * here.
 *
 * What is looked at is what one VM, or the hypervisor, could lose to another VM. What a guest loses
 * to its own programs is its own affair: its CPUID offers no speculation control (guest_cpu.c).
 * Portable: the host tests have a table of processors.
 */
#ifndef ARCH_SPECULATION_H
#define ARCH_SPECULATION_H

/* Guards. vmentry.S tests those of GUARDS_AROUND_GUEST. */
#define GUARD_RSB_FULL    0x001 /* at an exit: overwrite the return stack buffer */
#define GUARD_RSB_ONE     0x002 /* at an exit: one call, and wait for it (post-barrier RSB) */
#define GUARD_IBRS_EXIT   0x004 /* IA32_SPEC_CTRL.IBRS: 1 at each exit, 0 before each entry */
#define GUARD_BUFFERS     0x008 /* before each entry: VERW, which overwrites the core's buffers */
#define GUARD_L1D         0x010 /* before the entry that begins a slice: flush the L1 data cache */
#define GUARD_IBRS_ALWAYS 0x020 /* IA32_SPEC_CTRL.IBRS: 1 for good (enhanced IBRS) */
#define GUARD_BHI         0x040 /* IA32_SPEC_CTRL.BHI_DIS_S: 1 for good */
#define GUARD_IBPB        0x080 /* when another VM gets the processor: the predictor's barrier */
#define GUARD_HISTORY     0x100 /* at an exit: more branches than any history holds */
#define GUARDS_AROUND_GUEST                                                                        \
    (GUARD_RSB_FULL | GUARD_RSB_ONE | GUARD_IBRS_EXIT | GUARD_BUFFERS | GUARD_L1D | GUARD_HISTORY)

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPECULATION_TEXT_MAX 200

/* CPUID.(7,0):EDX */
#define CPUID7_EDX_MD_CLEAR          (1u << 10)
#define CPUID7_EDX_SPEC_CTRL         (1u << 26) /* IBRS and IBPB */
#define CPUID7_EDX_L1D_FLUSH         (1u << 28)
#define CPUID7_EDX_ARCH_CAPABILITIES (1u << 29)
/* CPUID.(7,2):EDX */
#define CPUID72_EDX_BHI_CTRL (1u << 4)
/* IA32_ARCH_CAPABILITIES */
#define CAPABILITY_RDCL_NO    (1ull << 0)
#define CAPABILITY_IBRS_ALL   (1ull << 1)
#define CAPABILITY_SKIP_L1D   (1ull << 3) /* SKIP_L1DFL_VMENTRY */
#define CAPABILITY_MDS_NO     (1ull << 5)
#define CAPABILITY_TAA_NO     (1ull << 8)
#define CAPABILITY_BHI_NO     (1ull << 20)
#define CAPABILITY_PBRSB_NO   (1ull << 24)
#define CAPABILITY_RFDS_NO    (1ull << 27)
#define CAPABILITY_RFDS_CLEAR (1ull << 28)

struct speculation_machine {
    unsigned family, model; /* as CPUID.1:EAX displays them */
    uint32_t edx7, edx72;   /* CPUID.(7,0):EDX and CPUID.(7,2):EDX; 0 where there is none */
    uint64_t capabilities;  /* IA32_ARCH_CAPABILITIES; 0 where there is none */
    bool transactions;      /* RTM can be used */
    bool threads;           /* its core runs more than one */
};

/* What is not kept from leaking, for want of microcode or by what no hypervisor can do. */
enum speculation_leak {
    LEAK_BRANCHES = 1 << 0, /* branch target injection: no IBRS, no IBPB */
    LEAK_L1D = 1 << 1,      /* L1 terminal fault: no L1D flush */
    LEAK_BUFFERS = 1 << 2,  /* data sampling: VERW does not clear */
    LEAK_THREADS = 1 << 3,  /* L1D or buffers, by the other thread of the core while it runs */
};

struct speculation {
    uint32_t guards; /* GUARD_* */
    uint32_t leaks;  /* enum speculation_leak */
};

/* What Intel's guidance asks for between VMs on such a processor. */
struct speculation speculation_decide(const struct speculation_machine *machine);

/*
 * The guards that can be tried on this processor whatever it needs: those that are no MSR's, and of
 * the others those whose MSR is there. For tests of the code (`mitigations = all`).
 */
uint32_t speculation_all_guards(const struct speculation_machine *machine);

/* Names with commas between, "none" for 0; cut to `size` bytes with its NUL. */
void speculation_print_guards(uint32_t guards, char *text, size_t size);
void speculation_print_leaks(uint32_t leaks, char *text, size_t size);
#endif

#endif
