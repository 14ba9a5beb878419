/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the loader jumps to (boot/handoff.h has the state): RDI = hand-off, on the loader's stack. */
#define BOOT_STACK_SIZE 16384

        .section .text.start, "ax", @progbits
        .globl  _start
        .type   _start, @function
_start:
        cli
        cld
        leaq    boot_stack_top(%rip), %rsp
        xorl    %ebp, %ebp
        call    start
        ud2
        .size   _start, . - _start

        /* void start_on_stack(uint64_t top, void (*function)(void)): leave the boot stack, never return. */
        .globl  start_on_stack
        .type   start_on_stack, @function
start_on_stack:
        movq    %rdi, %rsp
        xorl    %ebp, %ebp
        call    *%rsi
        ud2
        .size   start_on_stack, . - start_on_stack

        .bss
        .balign 16
        .skip   BOOT_STACK_SIZE
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
