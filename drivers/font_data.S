/* SPDX-License-Identifier: BSD-2-Clause */
/* The font file (drivers/font.mk unpacks it), as it is. */
        .section .rodata
        .globl  font_file, font_file_end
font_file:
        .incbin FONT_FILE
font_file_end:
        .section .note.GNU-stack, "", @progbits
