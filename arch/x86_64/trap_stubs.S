/* SPDX-License-Identifier: BSD-2-Clause */
/* Entry stubs of the hypervisor's IDT: push what is missing of struct trap_frame (trap.h). */
#include "arch/x86_64/trap.h"

        .section .text
        .balign 16
        .globl trap_stubs
trap_stubs:
        .set    vector, 0
        .rept   TRAP_VECTORS
        .balign TRAP_STUB_SIZE
        /* Vectors with an error code, SDM 3A table 6-1 */
        .if     vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        .else
        pushq   $0
        .endif
        pushq   $vector
        jmp     trap_common
        .set    vector, vector + 1
        .endr
        .balign TRAP_STUB_SIZE

        /*
         * void trap_wait(void): take an interrupt, waiting for it if none is pending. STI lets none come
         * before the next instruction has begun (SDM 2B, STI), so one that is pending wakes HLT; it cannot
         * slip in between and leave HLT to sleep. An NMI can: trap_handle ends the wait then.
         */
        .globl  trap_wait, trap_wait_halt, trap_wait_end
        .type   trap_wait, @function
trap_wait:
        sti
trap_wait_halt:
        hlt
trap_wait_end:
        cli
        ret
        .size   trap_wait, . - trap_wait

trap_common:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        cld
        movq    %rsp, %rdi
        xorl    %esi, %esi
        rdsspq  %rsi                    /* does nothing where there is none */
        call    trap_handle
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rbp
        popq    %rbx
        popq    %rdx
        popq    %rcx
        popq    %rax
        addq    $16, %rsp               /* vector, error code */
        iretq
