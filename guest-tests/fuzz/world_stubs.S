/* SPDX-License-Identifier: BSD-2-Clause */
/* Entering code of any kind: what ends it comes back at try_resume (guest-tests/lib/try.h). */
#include "guest-tests/lib/try_save.inc"

        .section .text
        .globl  world_enter
        /* void world_enter(const struct frame *): RIP, CS, RFLAGS, RSP, SS, then struct registers */
world_enter:
        try_save
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
