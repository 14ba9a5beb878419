/* SPDX-License-Identifier: BSD-2-Clause */
/* Exceptions and interrupts that arrive while the hypervisor itself runs. */
#ifndef ARCH_TRAP_H
#define ARCH_TRAP_H

#define TRAP_VECTORS   256
#define TRAP_STUB_SIZE 16 /* bytes from one entry stub to the next */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

/* What trap_stubs.S leaves on the stack, lowest address first. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector;
    uint64_t error_code; /* 0 where the processor pushes none */
    uint64_t rip, cs, rflags, rsp, ss;
};

/*
 * An exception that a test provokes: struct processor's `expected` leads here. Instead of a panic
 * the processor goes on at `rip` with stack pointer `rsp`, and finds here what came.
 */
struct trap_expected {
    uint64_t rip, rsp;
    uint64_t shadow; /* its shadow stack pointer there; 0: there is none */
    bool came;
    uint64_t vector, error_code;
    uint64_t address; /* CR2: of a page fault */
};

extern const char trap_stubs[];

/* Called by trap_stubs.S, with the shadow stack pointer, or 0. Returns for interrupts, and
 * exceptions that are expected; any other is our own mistake. */
void trap_handle(struct trap_frame *frame, uint64_t shadow);

/* trap_stubs.S: the one place where the hypervisor takes interrupts. Returns, with interrupts off,
 * when it has taken some. */
void trap_wait(void);
extern const char trap_wait_halt[], trap_wait_end[];

void trap_print_registers(const struct trap_frame *frame);

/* Print the symbolised back trace that starts at `rip`, `rbp`. `returns`: rip is a return address,
 * so that the call is before it. */
void backtrace_print(uint64_t rip, uint64_t rbp, bool returns);
#endif

#endif
