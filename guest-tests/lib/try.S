/* SPDX-License-Identifier: BSD-2-Clause */
/* See try.h. */
#include "guest-tests/lib/try_save.inc"

        .section .text
        .globl  try_call, try_resume
try_call:
        try_save
        subq    $8, %rsp
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
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

        .data
        .balign 8
        .globl  try_rsp
try_rsp:
        .quad   0
        .section .note.GNU-stack, "", @progbits
