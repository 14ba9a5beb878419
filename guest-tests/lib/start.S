/* SPDX-License-Identifier: BSD-2-Clause */
/* Entry of the bundled guests (hv/guest_abi.h): RDI holds struct tf_guest_info. */
        .section .text.start, "ax", @progbits
        .globl  _start
_start:
        cld
        leaq    stack_top(%rip), %rsp
        xorl    %ebp, %ebp
        call    guest_start
        ud2

        .bss
        .balign 16
        .skip   65536
stack_top:
        .section .note.GNU-stack, "", @progbits
