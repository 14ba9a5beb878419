/* SPDX-License-Identifier: BSD-2-Clause */
/* Registers that must survive exits (events.c). */

        .macro  one_exit kind
        .if     \kind == 0
        cpuid
        .elseif \kind == 1
        rdmsr
        .elseif \kind == 2
        inb     %dx, %al
        .else
        movl    (%rsi), %eax
        .endif
        .endm

        /* Load by encoding from (%rdi), exit, store; the place of `after` is on the stack. */
        .macro  across kind
        movq    0x00(%rdi), %rax
        movq    0x08(%rdi), %rcx
        movq    0x10(%rdi), %rdx
        movq    0x18(%rdi), %rbx
        movq    0x28(%rdi), %rbp
        movq    0x30(%rdi), %rsi
        movq    0x40(%rdi), %r8
        movq    0x48(%rdi), %r9
        movq    0x50(%rdi), %r10
        movq    0x58(%rdi), %r11
        movq    0x60(%rdi), %r12
        movq    0x68(%rdi), %r13
        movq    0x70(%rdi), %r14
        movq    0x78(%rdi), %r15
        movq    0x38(%rdi), %rdi
        one_exit \kind
        xchgq   %rdi, (%rsp)            /* the value, and where to store */
        movq    %rax, 0x00(%rdi)
        movq    %rcx, 0x08(%rdi)
        movq    %rdx, 0x10(%rdi)
        movq    %rbx, 0x18(%rdi)
        movq    %rbp, 0x28(%rdi)
        movq    %rsi, 0x30(%rdi)
        movq    %r8, 0x40(%rdi)
        movq    %r9, 0x48(%rdi)
        movq    %r10, 0x50(%rdi)
        movq    %r11, 0x58(%rdi)
        movq    %r12, 0x60(%rdi)
        movq    %r13, 0x68(%rdi)
        movq    %r14, 0x70(%rdi)
        movq    %r15, 0x78(%rdi)
        popq    0x38(%rdi)
        jmp     9f
        .endm

        .section .text
        .globl  registers_across_exit
registers_across_exit:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdx
        movq    %rdi, %rax
        movq    %rsi, %rdi
        cmpq    $1, %rax
        je      1f
        cmpq    $2, %rax
        je      2f
        ja      3f
        across  0
1:      across  1
2:      across  2
3:      across  3
9:      popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

        .macro  all_exits
        pushq   %rbx
        xorl    %eax, %eax
        cpuid
        movl    $0x8b, %ecx
        rdmsr
        movl    $0x3ff, %edx
        inb     %dx, %al
        movl    $0xe0000000, %eax
        movl    (%rax), %eax
        popq    %rbx
        .endm

        .globl  xmm_across_exit, ymm_across_exit
xmm_across_exit:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movdqu  16*\n(%rdi), %xmm\n
        .endr
        all_exits
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movdqu  %xmm\n, 16*\n(%rsi)
        .endr
        ret
ymm_across_exit:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovdqu 32*\n(%rdi), %ymm\n
        .endr
        all_exits
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovdqu %ymm\n, 32*\n(%rsi)
        .endr
        ret
        .section .note.GNU-stack, "", @progbits
