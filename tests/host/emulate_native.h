/* SPDX-License-Identifier: BSD-2-Clause */
/* An instruction on the processor that runs the test, for comparing with the emulator. */
#ifndef TESTS_HOST_EMULATE_NATIVE_H
#define TESTS_HOST_EMULATE_NATIVE_H

#include "arch/x86_64/emulate.h"

#define FLAGS_ARITHMETIC 0x8d5ull
#define FLAG_AF          0x10ull
#define FLAG_DF          0x400ull

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

struct state {
    uint64_t gpr[16];
    uint64_t rflags;
};

/* Sets the registers of *state (RSP excepted), calls `function`, which is one instruction and RET,
 * and stores them again.
 */
__attribute__((naked)) static void execute(struct state *state __attribute__((unused)),
                                           const void *function __attribute__((unused)))
{
    __asm__("push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n\t"
            "push %rdi\n\t"
            "push %rsi\n\t"
            "pushq 128(%rdi); popfq\n\t"
            "mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n\t"
            "mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n\t"
            "mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n\t"
            "mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n\t"
            "mov 56(%rdi), %rdi\n\t"
            "call *(%rsp)\n\t"
            "xchg %rdi, 8(%rsp)\n\t"
            "mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n\t"
            "mov %rbp, 40(%rdi); mov %rsi, 48(%rdi)\n\t"
            "mov %r8, 64(%rdi); mov %r9, 72(%rdi); mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n\t"
            "mov %r12, 96(%rdi); mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n\t"
            "pushfq; popq 128(%rdi)\n\t"
            "cld\n\t"
            "pop %rsi\n\t"
            "popq 56(%rdi)\n\t"
            "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n\t"
            "ret");
}

/* AF is undefined after logic operations, all but CF after BT and its kin. */
static uint64_t defined_flags(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_AND:
    case INSN_OR:
    case INSN_XOR:
    case INSN_TEST:
        return FLAGS_ARITHMETIC & ~FLAG_AF;
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        return 1;
    default:
        return FLAGS_ARITHMETIC;
    }
}

#endif
