/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code that may fault: try_call and world_enter save the callee-saved registers and the stack; what ends the code
 * comes back at try_resume (world.c sets RIP and RSP so), as if the call had returned.
 */
        .macro  save
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, try_rsp(%rip)
        .endm

        .section .text
        .globl  try_call, try_resume, world_enter
        /* bool try_call(void (*code)(uint64_t), uint64_t argument) */
try_call:
        save
        subq    $8, %rsp
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        movq    try_rsp(%rip), %rsp
try_resume:
        movq    $0, try_rsp(%rip)
        xorl    %eax, %eax
        cmpq    $-1, outcome(%rip)      /* its vector: NO_TRAP */
        sete    %al
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

        /* void world_enter(const struct frame *): RIP, CS, RFLAGS, RSP, SS, then struct registers */
world_enter:
        save
        pushq   32(%rdi)
        pushq   24(%rdi)
        pushq   16(%rdi)
        pushq   8(%rdi)
        pushq   0(%rdi)
        movq    40(%rdi), %r15
        movq    48(%rdi), %r14
        movq    56(%rdi), %r13
        movq    64(%rdi), %r12
        movq    72(%rdi), %r11
        movq    80(%rdi), %r10
        movq    88(%rdi), %r9
        movq    96(%rdi), %r8
        movq    112(%rdi), %rsi
        movq    120(%rdi), %rbp
        movq    128(%rdi), %rbx
        movq    136(%rdi), %rdx
        movq    144(%rdi), %rcx
        movq    152(%rdi), %rax
        movq    104(%rdi), %rdi
        iretq
        .section .note.GNU-stack, "", @progbits
