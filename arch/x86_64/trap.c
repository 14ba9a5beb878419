/* SPDX-License-Identifier: BSD-2-Clause */
/* See trap.h. The hypervisor has no recoverable exceptions, but those that a self test provokes:
 * each is a panic that tells its story. */
#include "arch/x86_64/trap.h"

#include "arch/x86_64/cet.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/memory.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/processor.h"
#include "arch/x86_64/symbols.h"
#include "drivers/apic.h"
#include "hv/arch.h"
#include "hv/console.h"

#define EXCEPTIONS     32
#define BACKTRACE_MAX  24
#define CANONICAL_HIGH 0xffff800000000000ull

static const char *const exception_names[EXCEPTIONS] = {
    [0] = "#DE divide error",        [1] = "#DB debug",          [2] = "NMI",
    [3] = "#BP breakpoint",          [4] = "#OF overflow",       [5] = "#BR bound range",
    [6] = "#UD invalid opcode",      [7] = "#NM no FPU",         [8] = "#DF double fault",
    [10] = "#TS invalid TSS",        [11] = "#NP no segment",    [12] = "#SS stack segment",
    [13] = "#GP general protection", [14] = "#PF page fault",    [16] = "#MF x87 error",
    [17] = "#AC alignment",          [18] = "#MC machine check", [19] = "#XM SIMD error",
    [21] = "#CP control protection",
};

void backtrace_print(uint64_t rip, uint64_t rbp, bool returns)
{
    console_printf("back trace:\n");
    for (unsigned depth = 0; depth < BACKTRACE_MAX; depth++) {
        uint64_t offset;
        /* A call that never returns may be its function's last instruction. */
        const char *name = symbols_find(returns ? rip - 1 : rip, &offset);
        if (name)
            console_printf("  %016llx %s+0x%llx\n", (unsigned long long)rip, name,
                           (unsigned long long)offset + returns);
        else
            console_printf("  %016llx\n", (unsigned long long)rip);

        /* A frame pointer that does not lie on one of our stacks would fault again. */
        if (rbp == 0 || !memory_is_stack(rbp, 2 * sizeof(uint64_t)))
            return;
        const uint64_t *frame = (const uint64_t *)rbp;
        if (frame[0] != 0 && frame[0] <= rbp)
            return;
        rbp = frame[0];
        rip = frame[1];
        returns = true;
        if (rip < CANONICAL_HIGH)
            return;
    }
}

void trap_print_registers(const struct trap_frame *f)
{
#define U(x) ((unsigned long long)(x))
    console_printf("rax %016llx rbx %016llx rcx %016llx rdx %016llx\n", U(f->rax), U(f->rbx),
                   U(f->rcx), U(f->rdx));
    console_printf("rsi %016llx rdi %016llx rbp %016llx rsp %016llx\n", U(f->rsi), U(f->rdi),
                   U(f->rbp), U(f->rsp));
    console_printf("r8  %016llx r9  %016llx r10 %016llx r11 %016llx\n", U(f->r8), U(f->r9),
                   U(f->r10), U(f->r11));
    console_printf("r12 %016llx r13 %016llx r14 %016llx r15 %016llx\n", U(f->r12), U(f->r13),
                   U(f->r14), U(f->r15));
    console_printf("rip %016llx cs  %04llx ss %04llx rflags %08llx\n", U(f->rip), U(f->cs),
                   U(f->ss), U(f->rflags));
    console_printf("cr0 %016llx cr2 %016llx cr3 %016llx cr4 %08llx\n", U(read_cr0()), U(read_cr2()),
                   U(read_cr3()), U(read_cr4()));
#undef U
}

/* What an NMI interrupts may hold the console's lock, so this one must not wait for it. */
static void note_nmi(void)
{
    if (!console_try_begin())
        return;
    log_line("NMI while the hypervisor ran; ignored");
    console_end();
}

/* On a shadow stack an event leaves the pointer before it, RIP and CS (SDM 3A 6.14.2, upwards), and
 * IRET wants to find what it finds on the stack. */
#define SHADOW_POINTER 0
#define SHADOW_RIP     8

static void return_to(struct trap_frame *frame, uint64_t shadow, uint64_t rip)
{
    frame->rip = rip;
    if (shadow)
        cet_write(shadow + SHADOW_RIP, rip);
}

static bool is_expected(struct trap_frame *frame, uint64_t shadow)
{
    struct trap_expected *e = this_processor()->expected;

    if (!e)
        return false;
    this_processor()->expected = NULL; /* a second one is a panic */
    e->came = true;
    e->vector = frame->vector;
    e->error_code = frame->error_code;
    e->address = read_cr2();
    return_to(frame, shadow, e->rip);
    frame->rsp = e->rsp;
    if (shadow)
        cet_write(shadow + SHADOW_POINTER, e->shadow);
    return true;
}

void trap_handle(struct trap_frame *frame, uint64_t shadow)
{
    if (frame->rip == (uint64_t)trap_wait_halt)
        return_to(frame, shadow, (uint64_t)trap_wait_end);
    if (frame->vector >= EXCEPTIONS) {
        apic_interrupt_in_hypervisor((uint8_t)frame->vector);
        return;
    }
    if (frame->vector == VECTOR_NMI) {
        panic_stop_if_asked(frame->rip, frame->rbp);
        note_nmi();
        return;
    }
    if (is_expected(frame, shadow))
        return;
    const char *name = exception_names[frame->vector];
    panic_with_frame(frame, "exception %u (%s), error code 0x%llx", (unsigned)frame->vector,
                     name ? name : "reserved", (unsigned long long)frame->error_code);
}
