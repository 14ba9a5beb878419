/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the hypervisor and a native guest (native.c), both ways. All of it runs from one page that is
 * copied to where physical and linear address are the same in both address spaces, so that the code goes on
 * when CR3 changes; its data lies in the page too (struct native_page, first).
 */
#include "arch/x86_64/descriptors.h" /* the selectors are the same in both GDTs: hv/guest_abi.h */

#define PAGE_DATA 0x200         /* bytes before the code: native.c checks it */

/* Offsets in struct native_page */
#define HOST_CR0     0x00
#define HOST_CR3     0x08
#define HOST_CR4     0x10
#define HOST_RSP     0x18
#define HOST_GDTR    0x20
#define HOST_IDTR    0x30
#define HOST_TSS     0x40       /* the address of the TSS descriptor */
#define HOST_CALL    0x48
#define HOST_CONTEXT 0x50
#define GUEST_CR0    0x58
#define GUEST_CR3    0x60
#define GUEST_CR4    0x68
#define GUEST_RSP    0x70
#define GUEST_GDTR   0x78
#define GUEST_IDTR   0x88
#define GUEST_TR     0x98       /* 0: TR is left alone */
#define GUEST_RIP    0xa0       /* of the first entry; then 0 */
#define GUEST_RDI    0xa8
#define CALL_NUMBER  0xb0
#define CALL_ARG0    0xb8
#define CALL_ARG1    0xc0
#define CALL_ARG2    0xc8
#define CALL_RESULT  0xd0
#define HOST_GS      0xd8       /* GS base: the hypervisor's leads to its struct processor */
#define GUEST_GS     0xe0

#define MSR_GS_BASE   0xc0000101
#define CR3_PCID      0xfff
#define CR4_CET       0x800000
#define TSS_BUSY_BYTE 5
#define TSS_BUSY      2

        .macro  push_kept
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushfq
        .endm

        .macro  pop_kept
        popfq
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        .endm

        .macro  load_selectors
        pushq   $SELECTOR_CODE
        leaq    9f(%rip), %rax
        pushq   %rax
        lretq
9:      movl    $SELECTOR_DATA, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    %eax, %es
        .endm

        .macro  load_gs_base from       /* RBX: the page; after the selectors */
        movl    $MSR_GS_BASE, %ecx
        movl    \from(%rbx), %eax
        movl    \from+4(%rbx), %edx
        wrmsr
        .endm

        .section .text
        .balign 4096
        .globl  native_page_start, native_page_end, native_enter, native_call_gate
native_page_start:
        .skip   PAGE_DATA

        /* void native_enter(struct native_page *): in the hypervisor, which may write the page by that
         * address only; comes back when the guest has ended. */
native_enter:
        push_kept
        movq    %rsp, HOST_RSP(%rdi)
        leaq    native_page_start(%rip), %rbx
to_guest:                       /* RBX: the page */
        cli
        movq    GUEST_CR3(%rbx), %rax
        movq    %rax, %rcx
        andq    $~CR3_PCID, %rcx
        movq    %rcx, %cr3      /* CR4.PCIDE can be set only while the PCID is 0 (SDM 3A 4.10.1) */
        movq    GUEST_CR4(%rbx), %rdx
        movq    %rdx, %cr4
        movq    %rax, %cr3
        movq    GUEST_CR0(%rbx), %rax
        movq    %rax, %cr0
        lgdt    GUEST_GDTR(%rbx)
        lidt    GUEST_IDTR(%rbx)
        movq    GUEST_RSP(%rbx), %rsp
        load_selectors
        load_gs_base GUEST_GS
        movq    GUEST_TR(%rbx), %rax
        testq   %rax, %rax
        jz      1f
        movq    GUEST_GDTR+2(%rbx), %rcx
        andb    $~TSS_BUSY, TSS_BUSY_BYTE(%rcx, %rax)
        ltr     %ax
1:      movq    GUEST_RIP(%rbx), %rax
        testq   %rax, %rax
        jnz     first_entry
        movq    CALL_RESULT(%rbx), %rax
        pop_kept
        ret

first_entry:
        movq    $0, GUEST_RIP(%rbx)
        movq    GUEST_RDI(%rbx), %rdi
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        xorl    %esi, %esi
        xorl    %ebp, %ebp
        xorl    %ebx, %ebx
        jmpq    *%rax

        /* uint64_t native_call_gate(number, arg0, arg1, arg2): in the guest, as a C function */
native_call_gate:
        push_kept
        cli
        cld
        leaq    native_page_start(%rip), %rbx
        movq    %rdi, CALL_NUMBER(%rbx)
        movq    %rsi, CALL_ARG0(%rbx)
        movq    %rdx, CALL_ARG1(%rbx)
        movq    %rcx, CALL_ARG2(%rbx)
        movq    %rsp, GUEST_RSP(%rbx)
        sgdt    GUEST_GDTR(%rbx)
        sidt    GUEST_IDTR(%rbx)
        str     %rax
        movq    %rax, GUEST_TR(%rbx)
        movq    %cr0, %rax
        movq    %rax, GUEST_CR0(%rbx)
        movq    %cr3, %rax
        movq    %rax, GUEST_CR3(%rbx)
        movq    %cr4, %rax
        movq    %rax, GUEST_CR4(%rbx)
        movl    $MSR_GS_BASE, %ecx
        rdmsr
        movl    %eax, GUEST_GS(%rbx)
        movl    %edx, GUEST_GS+4(%rbx)
        movq    HOST_CR0(%rbx), %rax
        movq    %rax, %cr0
        movq    HOST_CR4(%rbx), %rax
        andq    $~CR4_CET, %rax         /* the far return below is none for the shadow stack */
        movq    %rax, %cr4
        movq    HOST_CR3(%rbx), %rax
        movq    %rax, %cr3
        lgdt    HOST_GDTR(%rbx)
        lidt    HOST_IDTR(%rbx)
        movq    HOST_RSP(%rbx), %rsp
        load_selectors
        load_gs_base HOST_GS
        movq    HOST_CR4(%rbx), %rax
        movq    %rax, %cr4
        movq    HOST_TSS(%rbx), %rax
        andb    $~TSS_BUSY, TSS_BUSY_BYTE(%rax)
        movl    $SELECTOR_TSS, %eax
        ltr     %ax
        movq    HOST_CONTEXT(%rbx), %rdi
        callq   *HOST_CALL(%rbx)
        testb   %al, %al
        jnz     to_guest
        pop_kept
        ret
native_page_end:
        .section .note.GNU-stack, "", @progbits
