/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A 32-bit Multiboot 1 image. With AOUT_KLUDGE the header gives the load addresses itself and the file is a
 * plain binary, else it is an ELF32.
 */
#define MAGIC 0x1badb002
#ifdef AOUT_KLUDGE
#define FLAGS 0x00010003                /* page-aligned modules, memory map, addresses in the header */
#else
#define FLAGS 0x00000003
#endif

        .section .multiboot, "a", @progbits
        .balign 4
header:
        .long   MAGIC, FLAGS, -(MAGIC + FLAGS)
#ifdef AOUT_KLUDGE
        .long   header, image_start, data_end, image_end, _start
#endif

        .section .text.start, "ax", @progbits
        .code32
        .globl  _start
_start:
        movl    $stack_top, %esp
        pushl   %ebx
        pushl   %eax
        call    main
1:      cli
        hlt
        jmp     1b

        .bss
        .balign 16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
