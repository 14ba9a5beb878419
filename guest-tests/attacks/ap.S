/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The start of another processor: from the start-up IPI in real-address mode (SDM 3A 8.4.3) to 64-bit
 * mode with the first processor's tables. smp.c copies [ap_start, ap_start_end) to AP_PAGE and fills
 * in what is behind ap_cr3.
 */
#define AP_PAGE       0x8000
#define AT(label)     (AP_PAGE + (label) - ap_start)
#define CODE32        0x08
#define DATA          0x10
#define CODE64        0x18
#define CR0_PE        1
#define CR0_PG_WP_NE  0x80010020
#define CR4_PAE       0x20
#define MSR_EFER      0xc0000080
#define EFER_NXE_LME  0x900

        .section .rodata
        .globl  ap_start, ap_start_end, ap_cr3
        .balign 16
ap_start:
        .code16
        cli
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   ap_gdtr - ap_start
        movl    %cr0, %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   $CODE32, $AT(ap_32)
        .code32
ap_32:
        movw    $DATA, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    AT(ap_cr3), %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_NXE_LME, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $CR0_PG_WP_NE, %eax
        movl    %eax, %cr0
        ljmpl   $CODE64, $AT(ap_64)
        .code64
ap_64:
        lgdt    AT(ap_final_gdtr)
        lidt    AT(ap_final_idtr)
        movq    AT(ap_stack), %rsp
        movw    $DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        pushq   $CODE32                 /* the final table's code of 64 bits has this selector */
        pushq   AT(ap_entry)
        lretq

        .balign 8
ap_gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* code of 32 bits, data, code of 64 bits */
        .quad   0x00cf93000000ffff
        .quad   0x00af9b000000ffff
ap_gdtr:
        .word   ap_gdtr - ap_gdt - 1
        .long   AT(ap_gdt)
        .balign 8
ap_cr3: .quad   0                       /* struct ap_parameters from here on */
ap_stack:
        .quad   0
ap_entry:
        .quad   0
ap_final_gdtr:
        .skip   10
ap_final_idtr:
        .skip   10
ap_start_end:

        .section .text
        /* bool probe_read(uint64_t at, uint64_t *value): false if the read gave #PF. */
        .globl  probe_read, probe_fault
probe_read:
        movq    (%rdi), %rax
        movq    %rax, (%rsi)
        movl    $1, %eax
        ret
probe_fault:
        xorl    %eax, %eax
        ret
        .section .note.GNU-stack, "", @progbits
