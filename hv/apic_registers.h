/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC's registers (SDM 3A chapter 11), for the driver of the machine's and for the model
 * of a guest's: their numbers, and the bits that both use.
 */
#ifndef HV_APIC_REGISTERS_H
#define HV_APIC_REGISTERS_H

/* By number: offset >> 4 in xAPIC mode, MSR - 0x800 in x2APIC mode (SDM 3A tables 11-1 and 11-6).
 */
enum apic_register {
    APIC_ID = 0x02,
    APIC_VERSION = 0x03,
    APIC_TPR = 0x08,
    APIC_APR = 0x09, /* not on processors since the Pentium 4 */
    APIC_PPR = 0x0a,
    APIC_EOI = 0x0b,
    APIC_RRD = 0x0c, /* as APR */
    APIC_LDR = 0x0d,
    APIC_DFR = 0x0e, /* xAPIC mode */
    APIC_SVR = 0x0f,
    APIC_ISR = 0x10, /* then seven more, and so TMR and IRR */
    APIC_TMR = 0x18,
    APIC_IRR = 0x20,
    APIC_ESR = 0x28,
    APIC_LVT_CMCI = 0x2f,
    APIC_ICR = 0x30,
    APIC_ICR_HIGH = 0x31, /* xAPIC mode */
    APIC_LVT_TIMER = 0x32,
    APIC_LVT_THERMAL = 0x33,
    APIC_LVT_PERFORMANCE = 0x34,
    APIC_LVT_LINT0 = 0x35,
    APIC_LVT_LINT1 = 0x36,
    APIC_LVT_ERROR = 0x37,
    APIC_TIMER_INITIAL = 0x38,
    APIC_TIMER_CURRENT = 0x39,
    APIC_TIMER_DIVIDE = 0x3e,
    APIC_SELF_IPI = 0x3f, /* x2APIC mode */
};

#define APIC_REGISTER_SHIFT 4u /* xAPIC mode: 32 bits at each multiple of 16 */

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u /* that of register 0 */
#define MSR_X2APIC_LAST  0x8ffu

/* Of IA32_APIC_BASE, SDM 3A 11.4.4 and 11.12.1 */
#define APIC_BASE_BSP    (1ull << 8)
#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ENABLE (1ull << 11)

#define APIC_ID_SHIFT 24 /* xAPIC mode: in the ID register and in LDR */

/* Spurious-interrupt vector register, SDM 3A 11.9 */
#define APIC_SVR_ENABLE (1u << 8)

/* Entries of the local vector table, SDM 3A 11.5.1 */
#define APIC_LVT_MASKED         (1u << 16)
#define APIC_LVT_DELIVERY_SHIFT 8
#define APIC_LVT_MODE_SHIFT     17 /* the timer's */
enum apic_timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE, TIMER_RESERVED };

/* Interrupt command register, SDM 3A 11.6.1 */
#define APIC_ICR_DELIVERY_SHIFT 8
#define APIC_ICR_PENDING        (1u << 12) /* xAPIC mode */
#define APIC_ICR_ASSERT         (1u << 14)
#define APIC_ICR_X2APIC_SHIFT   32 /* where the destination is in x2APIC mode */

/* Delivery modes, as the ICR, the LVT and redirection entries encode them. */
enum apic_delivery {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_SIPI = 6,
    APIC_EXTINT = 7,
};

#endif
