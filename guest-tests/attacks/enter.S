/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decoder_enter: load all registers from decoder_registers (by encoding; then RFLAGS) and jump to
 * decoder_code. Never returns: an exception ends what runs there, and try_call's caller goes on.
 */
        .section .text
        .globl  decoder_enter
decoder_enter:
        leaq    decoder_registers(%rip), %rax
        movq    1*8(%rax), %rcx
        movq    2*8(%rax), %rdx
        movq    3*8(%rax), %rbx
        movq    5*8(%rax), %rbp
        movq    6*8(%rax), %rsi
        movq    7*8(%rax), %rdi
        movq    8*8(%rax), %r8
        movq    9*8(%rax), %r9
        movq    10*8(%rax), %r10
        movq    11*8(%rax), %r11
        movq    12*8(%rax), %r12
        movq    13*8(%rax), %r13
        movq    14*8(%rax), %r14
        movq    15*8(%rax), %r15
        pushq   16*8(%rax)
        popfq
        movq    4*8(%rax), %rsp
        movq    (%rax), %rax
        jmp     *decoder_code(%rip)
        .section .note.GNU-stack, "", @progbits
