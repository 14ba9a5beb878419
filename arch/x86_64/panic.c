/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of the hypervisor: what went wrong, registers, and how it came there, on all consoles.
 * Then the machine ends as the settings say for a failure, which by default is to stand still with
 * the screen on.
 */
#include "arch/x86_64/panic.h"

#include <stdarg.h>
#include <stdio.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/trap.h"
#include "drivers/power.h"
#include "hv/arch.h"
#include "hv/console.h"

uintptr_t __stack_chk_guard;
__attribute__((noreturn)) void __stack_chk_fail(void);

static enum at_end at_end = AT_END_STAY;
static bool panicking;

void panic_set_end(enum at_end how)
{
    at_end = how;
}

/* Say it once: a panic inside the panic only stops. */
__attribute__((format(printf, 1, 0))) static void begin(const char *format, va_list args)
{
    char text[256];

    __asm__ volatile("cli");
    if (panicking)
        power_end(at_end, false);
    panicking = true;
    vsnprintf(text, sizeof(text), format, args);
    console_printf("\ntwofold: PANIC: %s\n", text);
}

__attribute__((noreturn)) static void end(void)
{
    console_printf("@end {\"status\": 2, \"panic\": true}\n");
    power_end(at_end, false);
}

void panic(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    begin(format, args);
    va_end(args);
    backtrace_print((uint64_t)__builtin_return_address(0), (uint64_t)__builtin_frame_address(0),
                    true);
    end();
}

void panic_with_frame(const struct trap_frame *frame, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    begin(format, args);
    va_end(args);
    trap_print_registers(frame);
    backtrace_print(frame->rip, frame->rbp, false);
    end();
}

void __stack_chk_fail(void)
{
    panic("stack smashed");
}
