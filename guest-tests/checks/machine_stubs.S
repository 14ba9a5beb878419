/* SPDX-License-Identifier: BSD-2-Clause */
/* Trying code at CPL 3, and accesses of each kind. An exception comes back at try_resume (guest-tests/lib/try.h). */
#include "guest-tests/lib/try_save.inc"

#define SELECTOR_USER_DATA 0x1b
#define SELECTOR_USER_CODE 0x23

        .section .text
        .globl  try_enter_user
        /* void try_enter_user(rip, rsp, rflags, rdi, rsi): to CPL 3 with the last two in RDI and RSI */
try_enter_user:
        try_save
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

        .section .note.GNU-stack, "", @progbits
