/* SPDX-License-Identifier: BSD-2-Clause */
/* Entries of interrupts and exceptions, and of processors that a start-up IPI wakes. */
#include "guest-tests/multiboot/selectors.h"

#define CR0_PE       0x1
#define CR0_CACHES   0x60000000         /* CD and NW, which INIT leaves set */
#define CPU_SELECTOR 4                  /* offsets in struct cpu */
#define CPU_STACK    8

/* Vectors 8, 10 to 14, 17, 21, 29 and 30 push an error code (SDM 3A 6.13). */
#define ERROR_CODES  0x60227d00

        .text
        .code32
        .balign 16
        .globl  interrupt_stubs
interrupt_stubs:
        vector = 0
        .rept   256
        .balign INTERRUPT_STUB_SIZE
        .if     (vector >= 32) || !((ERROR_CODES >> (vector & 31)) & 1)
        pushl   $0
        .endif
        pushl   $vector
        jmp     common
        vector = vector + 1
        .endr

common:
        pushal
        cld
        pushl   %esp
        call    interrupt
        addl    $4, %esp
        popal
        addl    $8, %esp
        iretl

/* Copied to the page that the start-up IPI names. */
        .globl  trampoline, trampoline_end
        .code16
trampoline:
        cli
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   trampoline_gdtr - trampoline
        movl    %cr0, %eax
        andl    $~CR0_CACHES, %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   $SELECTOR_CODE, $started
trampoline_gdtr:
        .word   GDT_ENTRIES * 8 - 1
        .long   gdt
trampoline_end:

        .code32
started:
        movw    $SELECTOR_DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %ss
        movl    cpu_starting, %ebx
        movl    CPU_SELECTOR(%ebx), %eax
        movw    %ax, %gs
        movl    CPU_STACK(%ebx), %esp
        pushl   %ebx
        call    cpu_main
1:      cli
        hlt
        jmp     1b

        .section .note.GNU-stack, "", @progbits
