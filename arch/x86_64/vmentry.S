/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VM entry and exit. One frame on the stack serves all entries of a call to vmx_run:
 *
 *      callee-saved registers
 *      [HOST_RSP]  vcpu
 *
 * An exit arrives at vmx_exit with that stack and the guest's general registers. They are the whole state
 * that is switched here; see vcpu.h for the rest.
 */
#define HOST_RSP_FIELD 0x6c14           /* VMCS_HOST_RSP, SDM 3D B.4.4 */
#define HOST_RIP_FIELD 0x6c16

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

        .section .text
        /* bool vmx_run(struct vcpu *vcpu, bool launched) */
        .globl  vmx_run
        .type   vmx_run, @function
vmx_run:
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
        leaq    vmx_exit(%rip), %rdx
        movl    $HOST_RIP_FIELD, %eax
        vmwrite %rdx, %rax
        testb   %sil, %sil
        jnz     1f
        load_guest
        vmlaunch
        jmp     vmx_entry_failed
1:      load_guest
        vmresume
        jmp     vmx_entry_failed
        .size   vmx_run, . - vmx_run

        .type   vmx_exit, @function
vmx_exit:
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
        call    vmx_handle_exit
        movq    (%rsp), %rdi
        testb   %al, %al                /* leave? */
        jnz     vmx_leave
        load_guest
        vmresume
        /* Falls through: only a failed entry comes here. */
vmx_entry_failed:
        xorl    %eax, %eax
        jmp     1f
vmx_leave:
        movl    $1, %eax
1:      addq    $8, %rsp                /* vcpu */
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   vmx_exit, . - vmx_exit

        .section .note.GNU-stack, "", @progbits
