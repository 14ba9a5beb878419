/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checks: whether the architecture that a guest sees is the manual's. Each group prints "check NAME
 * ok cases=N"; the first case that is wrong ends the guest with "FAIL ...". Argument only=NAME runs
 * one group.
 */
#ifndef GUEST_CHECKS_H
#define GUEST_CHECKS_H

#include "guest-tests/lib/lib.h"

/* Guest-physical memory where there is neither RAM nor device, and its address in the one-to-one
 * map. */
#define NO_RAM 0xe0000000ull

#define SELECTOR_CODE      0x08
#define SELECTOR_DATA      0x10
#define SELECTOR_USER_DATA 0x1b /* the order that SYSRET wants: data below code, SDM 2B */
#define SELECTOR_USER_CODE 0x23
#define SELECTOR_TSS       0x28

#define VECTOR_DB 1
#define VECTOR_BP 3
#define VECTOR_UD 6
#define VECTOR_DF 8
#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_PF 14

#define CR0_WP             (1ull << 16)
#define CR0_NW             (1ull << 29)
#define CR0_CD             (1ull << 30)
#define CR0_PG             (1ull << 31)
#define CR4_DE             (1ull << 3)
#define CR4_PGE            (1ull << 7)
#define CR4_OSFXSR         (1ull << 9)
#define CR4_OSXMMEXCPT     (1ull << 10)
#define CR4_VMXE           (1ull << 13)
#define CR4_PCIDE          (1ull << 17)
#define CR4_OSXSAVE        (1ull << 18)
#define CR4_SMEP           (1ull << 20)
#define CR4_SMAP           (1ull << 21)
#define EFER_SCE           (1ull << 0)
#define EFER_NXE           (1ull << 11)
#define RFLAGS_TF          (1ull << 8)
#define RFLAGS_AC          (1ull << 18)
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_FMASK          0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* --- machine.c -------------------------------------------------------------------------------- */

/* The exception that the last tried piece of code took; vector NO_TRAP if none. */
#define NO_TRAP 0xffu
struct caught {
    uint64_t vector, error_code, cr2, rip;
};
extern struct caught caught;
/* All registers as they then were. */
extern struct trap caught_frame;

/* Own GDT, TSS and a handler that catches what `try_*` provokes. */
void machine_init(void);
/* That handler again, after another one. */
void machine_catch(void);

/* Entry of the IDT for `vector`: its present bit and interrupt stack (0: none). */
void idt_set(unsigned vector, bool present, unsigned ist);
void tss_set_stack(unsigned ist, uint64_t top);

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

/*
 * Access `at` at CPL 0 or 3; true if no exception came, else `caught` has it. What is fetched must
 * be a RET (0xc3) at `at`; reads and writes take 8 bytes at `at` + 8, and writes write zeros there.
 */
bool try_access(uint64_t at, enum access access, bool user, bool ac);

/* Run `code` (no arguments, caller-saved registers only) and catch its exception. True: none came.
 */
bool try_run(void (*code)(void));

/* Run the bytes [from, to) at CPL 3; INT3 ends them. False: an exception other than that. */
bool try_user(const void *from, const void *to);

static inline uint64_t read_cr0(void)
{
    uint64_t v;
    __asm__ volatile("mov %%cr0, %0" : "=r"(v));
    return v;
}

static inline void write_cr0(uint64_t v)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory");
}

static inline uint64_t read_cr4(void)
{
    uint64_t v;
    __asm__ volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}

static inline void write_cr4(uint64_t v)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

/* What the processor has */
bool has_smep(void);
bool has_smap(void);
bool has_pcid(void);
bool has_invpcid(void);

/* Arguments of the groups of live page tables: seed=N (1); rounds=N (300) of each act;
 * speculation=1 when the processor may set A where it only looks ahead, as real ones do. */
extern uint64_t tables_seed, tables_rounds, tables_speculation;

/* --- the groups: each returns its number of cases, 0 when the processor cannot do it ---------- */

extern unsigned permissions_every;
uint64_t check_permissions(void);
uint64_t check_permissions_pairs(void);
uint64_t check_permissions_all(void);
uint64_t check_large_pages(void);
uint64_t check_reserved_bits(void);
uint64_t check_accessed_dirty(void);
uint64_t check_canonical(void);
uint64_t check_invlpg(void);
uint64_t check_pcid(void);
uint64_t check_delivery(void);
uint64_t check_single_step(void);
uint64_t check_registers(void);
uint64_t check_vector_state(void);
uint64_t check_msrs(void);
uint64_t check_control_registers(void);
uint64_t check_undefined(void);
uint64_t check_ports(void);
uint64_t check_no_ram(void);
uint64_t check_syscall(void);
uint64_t check_tables(void);
uint64_t check_tables_mix(void);

#endif
