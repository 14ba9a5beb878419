/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Trying code that may fault: try_call and try_enter_user save the callee-saved registers and the stack; an
 * exception in between comes back at try_resume (machine.c sets RIP and RSP so), as if the call had returned.
 */
#define SELECTOR_USER_DATA 0x1b
#define SELECTOR_USER_CODE 0x23

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
        .globl  try_call, try_enter_user, try_resume
        /* bool try_call(void (*code)(void)) */
try_call:
        save
        subq    $8, %rsp
        call    *%rdi
        movq    try_rsp(%rip), %rsp
try_resume:
        movq    $0, try_rsp(%rip)
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

        /* bool try_enter_user(rip, rsp, rflags, rdi, rsi): to CPL 3 with the last two in RDI and RSI */
try_enter_user:
        save
        pushq   $SELECTOR_USER_DATA
        pushq   %rsi
        pushq   %rdx
        pushq   $SELECTOR_USER_CODE
        pushq   %rdi
        movq    %rcx, %rdi
        movq    %r8, %rsi
        iretq

        .globl  access_read, access_write, access_fetch
access_read:
        movq    8(%rdi), %rax
        ret
access_write:
        movq    $0, 8(%rdi)
        ret
access_fetch:
        jmp     *%rdi                   /* the RET there returns for us */

        /* At CPL 3: RDI = address, RSI = enum access */
        .globl  access_user, access_user_end
access_user:
        cmpl    $1, %esi
        je      1f
        ja      2f
        movq    8(%rdi), %rax
        int3
1:      movq    $0, 8(%rdi)
        int3
2:      call    *%rdi
        int3
access_user_end:

        .data
        .balign 8
        .globl  try_rsp
try_rsp:
        .quad   0
        .section .note.GNU-stack, "", @progbits
