/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VM entry and exit. One frame on the stack serves all entries of a call to vmx_run:
 *
 *      callee-saved registers
 *      [HOST_RSP]  vcpu
 *
 * An exit arrives at vmx_exit with that stack and the guest's general registers. They are the whole state
 * that is switched here; see vcpu.h for the rest.
 *
 * All of it is there twice: plain, and with the guards that speculation.h decided on, which are tested one by
 * one. vmx_run_guarded leads to exits that are guarded, too, so that a processor which needs no guard pays
 * nothing.
 */
#include "arch/x86_64/guards.h"
#include "arch/x86_64/processor.h"

#define HOST_RSP_FIELD 0x6c14           /* VMCS_HOST_RSP, SDM 3D B.4.4 */
#define HOST_RIP_FIELD 0x6c16
#define HOST_SSP_FIELD 0x6c1a

/* Offsets in struct vcpu: gpr[] by encoding */
#define RAX 0x00
#define RCX 0x08
#define RDX 0x10
#define RBX 0x18
#define RBP 0x28
#define RSI 0x30
#define RDI 0x38
#define R8  0x40
#define R9  0x48
#define R10 0x50
#define R11 0x58
#define R12 0x60
#define R13 0x68
#define R14 0x70
#define R15 0x78

        .macro  load_guest              /* all but RDI, which holds the vcpu */
        movq    RAX(%rdi), %rax
        movq    RCX(%rdi), %rcx
        movq    RDX(%rdi), %rdx
        movq    RBX(%rdi), %rbx
        movq    RBP(%rdi), %rbp
        movq    RSI(%rdi), %rsi
        movq    R8(%rdi), %r8
        movq    R9(%rdi), %r9
        movq    R10(%rdi), %r10
        movq    R11(%rdi), %r11
        movq    R12(%rdi), %r12
        movq    R13(%rdi), %r13
        movq    R14(%rdi), %r14
        movq    R15(%rdi), %r15
        movq    RDI(%rdi), %rdi
        .endm

        .macro  enter_guest instruction, guarded /* RDI: the vcpu */
        .if     \guarded
        testl   $GUARD_BUFFERS, %gs:PROCESSOR_GUARDS
        .endif
        load_guest
        .if     \guarded
        guard_buffers
        .endif
        \instruction
        .endm

#define MSR_SPEC_CTRL      0x48         /* SDM 4 table 2-2 */
#define MSR_FLUSH_CMD      0x10b
#define SPEC_CTRL_IBRS     1
#define FLUSH_CMD_L1D      1
#define RSB_ENTRIES        32           /* of the largest return stack buffer */
#define RSB_CALLS_A_ROUND  2
#define HISTORY_BRANCHES   200          /* taken ones: Alder Lake's history holds 194, Skylake's 93 */
#define HISTORY_A_ROUND    2

        .macro  write_msr msr, value    /* spoils RAX, RCX, RDX */
        movl    $\msr, %ecx
        movl    $\value, %eax
        xorl    %edx, %edx
        wrmsr
        .endm

        .macro  drop_shadow count       /* return addresses that nothing returns to; spoils RAX */
        xorl    %eax, %eax
        rdsspq  %rax
        testq   %rax, %rax
        jz      9f
        movl    $\count, %eax
        incsspq %rax
9:
        .endm

        /* In the hypervisor, the guest's registers saved, before the first branch whose target is predicted.
         * What is mispredicted here waits at the LFENCE. */
        .macro  guard_exit
        testl   $GUARD_IBRS_EXIT, %gs:PROCESSOR_GUARDS
        jz      1f
        write_msr MSR_SPEC_CTRL, SPEC_CTRL_IBRS
1:      testl   $GUARD_HISTORY, %gs:PROCESSOR_GUARDS
        jz      1f
        movl    $(HISTORY_BRANCHES / HISTORY_A_ROUND), %ecx
2:      jmp     3f
        int3
3:      decl    %ecx
        jnz     2b
1:      testl   $GUARD_RSB_FULL, %gs:PROCESSOR_GUARDS
        jz      5f
        movl    $(RSB_ENTRIES / RSB_CALLS_A_ROUND), %ecx
2:      call    3f                      /* its entry leads to the trap behind it */
        int3
3:      call    4f
        int3
4:      decl    %ecx
        jnz     2b
        addq    $(8 * RSB_ENTRIES), %rsp
        drop_shadow RSB_ENTRIES
5:      testl   $GUARD_RSB_ONE, %gs:PROCESSOR_GUARDS
        jz      7f
        call    6f
        int3
6:      addq    $8, %rsp
        drop_shadow 1
7:      lfence
        .endm

        .macro  guard_entry             /* spoils RAX, RCX, RDX */
        testl   $GUARD_IBRS_EXIT, %gs:PROCESSOR_GUARDS
        jz      1f
        write_msr MSR_SPEC_CTRL, 0
1:
        .endm

        /* With the guest's registers, and ZF clear if it is wanted: loads leave it alone, and VM entry takes
         * RFLAGS from the VMCS. VERW overwrites the buffers in its form with a memory operand only. */
        .macro  guard_buffers           /* a label of its own: define_vmx_run jumps over this */
        jz      8f
        verw    guard_selector(%rip)
8:
        .endm

        .section .rodata
guard_selector:
        .word   SELECTOR_DATA

        .section .text
        .macro  define_vmx_run name, exit, failed, guarded
        .globl  \name
        .type   \name, @function
\name:
        pushq   %rbp
        movq    %rsp, %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdi                    /* leaves RSP 16-byte aligned */
        movl    $HOST_RSP_FIELD, %eax
        vmwrite %rsp, %rax
        leaq    \exit(%rip), %rdx
        movl    $HOST_RIP_FIELD, %eax
        vmwrite %rdx, %rax
        xorl    %edx, %edx
        rdsspq  %rdx                    /* an exit finds the shadow stack as it is here */
        testq   %rdx, %rdx
        jz      1f
        movl    $HOST_SSP_FIELD, %eax
        vmwrite %rdx, %rax
1:
        .if     \guarded
        testl   $GUARD_L1D, %gs:PROCESSOR_GUARDS
        jz      1f
        write_msr MSR_FLUSH_CMD, FLUSH_CMD_L1D
1:      guard_entry
        .endif
        testb   %sil, %sil
        jnz     2f
        enter_guest vmlaunch, \guarded
        jmp     \failed
2:      enter_guest vmresume, \guarded
        jmp     \failed
        .size   \name, . - \name
        .endm

        .macro  define_vmx_exit name, failed, leave, guarded
        .type   \name, @function
\name:
        pushq   %rdi
        movq    8(%rsp), %rdi
        movq    %rax, RAX(%rdi)
        movq    %rcx, RCX(%rdi)
        movq    %rdx, RDX(%rdi)
        movq    %rbx, RBX(%rdi)
        movq    %rbp, RBP(%rdi)
        movq    %rsi, RSI(%rdi)
        movq    %r8, R8(%rdi)
        movq    %r9, R9(%rdi)
        movq    %r10, R10(%rdi)
        movq    %r11, R11(%rdi)
        movq    %r12, R12(%rdi)
        movq    %r13, R13(%rdi)
        movq    %r14, R14(%rdi)
        movq    %r15, R15(%rdi)
        popq    RDI(%rdi)
        leaq    48(%rsp), %rbp          /* vmx_run's frame, for back traces */
        .if     \guarded
        guard_exit
        .endif
        call    vmx_handle_exit
        testb   %al, %al                /* leave? */
        jnz     \leave
        .if     \guarded
        guard_entry
        .endif
        movq    (%rsp), %rdi
        enter_guest vmresume, \guarded
        /* Falls through: only a failed entry comes here. */
\failed:
        xorl    %eax, %eax
        jmp     1f
\leave:
        movl    $1, %eax
1:      addq    $8, %rsp                /* vcpu */
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   \name, . - \name
        .endm

        /* bool vmx_run(struct vcpu *vcpu, bool launched), and the same with guards */
        define_vmx_run vmx_run, vmx_exit, vmx_entry_failed, 0
        define_vmx_exit vmx_exit, vmx_entry_failed, vmx_leave_guest, 0
        define_vmx_run vmx_run_guarded, vmx_exit_guarded, vmx_entry_failed_guarded, 1
        define_vmx_exit vmx_exit_guarded, vmx_entry_failed_guarded, vmx_leave_guest_guarded, 1

        .section .note.GNU-stack, "", @progbits
