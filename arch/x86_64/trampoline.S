/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a processor runs first: from real-address mode into the hypervisor's address space. smp.c
 * copies this below 1 MiB, where a start-up IPI leads (SDM 3A 8.4.4), and fills in the data. There the
 * page is mapped one to one, read-only, so nothing is written once paging is on.
 */
#include "arch/x86_64/trampoline.h"

#define CR0_PE     0x1
#define CR4_PAE    0x20
#define MSR_EFER   0xc0000080
#define EFER_LME   0x100
#define EFER_NXE   0x800

#define GDT_CODE32 0x08
#define GDT_DATA   0x10
#define GDT_CODE64 0x18

/* In the copy: offsets from its first byte. */
#define AT(label)  (label - trampoline_start)
#define DATA(name) (TRAMPOLINE_DATA + name)

        .section .rodata
        .globl  trampoline_start, trampoline_code32, trampoline_code64, trampoline_gdt, trampoline_end
        .balign 16
trampoline_start:
        .code16
        cli
        cld
        movw    %cs, %ax                /* CS base: the page */
        movw    %ax, %ds
        xorl    %ebx, %ebx
        movw    %ax, %bx
        shll    $4, %ebx
        /* One start for one processor: a late one finds that its start was taken back. */
        xorl    %eax, %eax
        xchgl   %eax, DATA(TRAMPOLINE_CLAIM)
        testl   %eax, %eax
        jz      1f
        lgdtl   DATA(TRAMPOLINE_GDTR)
        movl    %cr0, %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   *DATA(TRAMPOLINE_FAR32)
1:      hlt
        jmp     1b

        .code32
trampoline_code32:
        movl    $GDT_DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %cr4, %eax
        orl     $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    DATA(TRAMPOLINE_LOW_ROOT)(%ebx), %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $(EFER_LME | EFER_NXE), %eax
        wrmsr
        movl    DATA(TRAMPOLINE_CR0)(%ebx), %eax
        movl    %eax, %cr0
        ljmpl   *DATA(TRAMPOLINE_FAR64)(%ebx)

        .code64
trampoline_code64:
        movl    %ebx, %ebx              /* the upper half is undefined after the change of mode */
        movq    DATA(TRAMPOLINE_ROOT)(%rbx), %rax
        movq    %rax, %cr3
        movq    DATA(TRAMPOLINE_STACK)(%rbx), %rsp
        movq    DATA(TRAMPOLINE_SELF)(%rbx), %rdi
        movq    DATA(TRAMPOLINE_ENTRY)(%rbx), %rax
        xorl    %ebp, %ebp
        call    *%rax
        ud2

        .balign 8
trampoline_gdt:                         /* SDM 3A figure 3-8 */
        .quad   0
        .quad   0x00cf9b000000ffff      /* P, S, code, read, accessed; D, 4 GiB */
        .quad   0x00cf93000000ffff      /* P, S, data, write, accessed; B, 4 GiB */
        .quad   0x00209b0000000000      /* P, S, code, read, accessed; L */
trampoline_end:
        .section .note.GNU-stack, "", @progbits
