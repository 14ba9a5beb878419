/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VT-x on this machine: what the processor offers, which of it is used, and switching it on.
 *
 * Every control word is computed from the capability MSRs (SDM 3D appendix A): required controls
 * that are missing are an error, optional ones a line of information.
 */
#ifndef ARCH_VMX_H
#define ARCH_VMX_H

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/vmcs.h"
#include "hv/types.h"
#include "hv/why.h"

/* Types of INVEPT and INVVPID, SDM 3C 31.3 */
enum invept_type { INVEPT_SINGLE_CONTEXT = 1, INVEPT_ALL_CONTEXTS = 2 };
enum invvpid_type {
    INVVPID_ADDRESS = 0,
    INVVPID_SINGLE_CONTEXT = 1,
    INVVPID_ALL_CONTEXTS = 2,
    INVVPID_RETAIN_GLOBALS = 3, /* single context */
};

struct vmx {
    uint32_t revision;
    /* Control words for every VMCS; per-VM bits are added on top. */
    uint32_t pin, proc, proc2, exit, entry;
    bool unrestricted_guest;
    bool vpid;
    bool preemption_timer;
    bool virtual_nmis;
    bool monitor_trap_flag; /* offered; whether it works shows the first step */
    bool cr3_exits;         /* MOV to and from CR3 cannot be kept from exiting */
    bool invlpg_exits;      /* INVLPG can be made to exit */
    bool string_io_info;
    bool rdtscp, invpcid, xsaves;
    bool perf_global_ctrl;           /* entries and exits can load IA32_PERF_GLOBAL_CTRL */
    unsigned preemption_timer_shift; /* it counts TSC >> shift */
    unsigned max_ept_leaf;           /* level: 1, 2 or 3 */
    enum invept_type invept;
    enum invvpid_type invvpid;
    enum invvpid_type invvpid_address; /* for an INVLPG */
    enum invvpid_type invvpid_cr3; /* for a MOV to CR3: keeps global translations where it can */
    unsigned cr3_targets;          /* CR3-target values, 0 to 4 */
    uint64_t cr0_must_be_1, cr0_may_be_1; /* while in VMX operation, SDM 3D A.7 */
    uint64_t cr4_must_be_1, cr4_may_be_1;
};

/* Filled by vmx_init; constant once VMs run. */
extern struct vmx vmx;

/*
 * Read the capabilities, choose the controls and say what is missing. `without`: bits of enum
 * feature to do without. False, with the name of what is missing in *why, when guests cannot run
 * here.
 */
bool vmx_init(uint64_t without, struct why *why);

/* Have entries and exits of all VMCSs load IA32_PERF_GLOBAL_CTRL from their fields. False where the
 * processor cannot. */
bool vmx_load_perf_global_ctrl(void);

/* Whether VM exits can load the state of control-flow enforcement; also where there is no VT-x,
 * which nothing then needs. */
bool vmx_can_load_cet(void);

/* Enter VMX operation on this processor, if it is not in it. False when the firmware locked VT-x
 * off or VMXON fails. */
bool vmx_enter(struct why *why);
/* Leave it; no VMCS may be current. */
void vmx_leave(void);

static inline void invept(enum invept_type type, uint64_t eptp)
{
    struct {
        uint64_t eptp, zero;
    } descriptor = {eptp, 0};

    __asm__ volatile("invept %0, %1" : : "m"(descriptor), "r"((uint64_t)type) : "cc", "memory");
}

/* `address`: canonical, for INVVPID_ADDRESS. */
static inline void invvpid_at(enum invvpid_type type, uint16_t vpid, uint64_t address)
{
    struct {
        uint64_t vpid, address;
    } descriptor = {vpid, address};

    __asm__ volatile("invvpid %0, %1" : : "m"(descriptor), "r"((uint64_t)type) : "cc", "memory");
}

static inline void invvpid(enum invvpid_type type, uint16_t vpid)
{
    invvpid_at(type, vpid, 0);
}

#endif
