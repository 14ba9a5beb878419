/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of the hypervisor: what went wrong, registers, and how it came there, on all consoles.
 * Then the machine ends as the settings say for a failure, which by default is to stand still with
 * the screen on.
 *
 * The first processor that panics stops the others, by NMIs, since they may run with interrupts off
 * or wait for a lock that nobody will release. Then it has the console for itself and tells where
 * they were.
 */
#include "arch/x86_64/panic.h"

#include <stdarg.h>
#include <stdio.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/processor.h"
#include "arch/x86_64/symbols.h"
#include "arch/x86_64/trap.h"
#include "drivers/apic.h"
#include "drivers/power.h"
#include "drivers/uart.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/vm.h"

uintptr_t __stack_chk_guard;
__attribute__((noreturn)) void __stack_chk_fail(void);

static enum at_end at_end = AT_END_STAY;

#define NOBODY        (~0u)
#define STOP_FRACTION 10u /* of a second that the others get to stop */

static unsigned panicking = NOBODY; /* index of the processor that does */

void panic_set_end(enum at_end how)
{
    at_end = how;
}

/* --- the other processors --------------------------------------------------------------------- */

__attribute__((noreturn)) static void stop(uint64_t rip, uint64_t rbp)
{
    struct processor *self = this_processor();

    self->stopped_rip = rip;
    self->stopped_rbp = rbp;
    __atomic_store_n(&self->stopped, true, __ATOMIC_RELEASE);
    cpu_halt_forever();
}

void panic_stop_if_asked(uint64_t rip, uint64_t rbp)
{
    unsigned who = __atomic_load_n(&panicking, __ATOMIC_ACQUIRE);

    if (who != NOBODY && who != processor_index())
        stop(rip, rbp);
}

static bool has_stopped(const struct processor *p)
{
    return __atomic_load_n(&p->stopped, __ATOMIC_ACQUIRE);
}

static void stop_others(void)
{
    uint64_t start = time_now();

    for (unsigned i = 0; i < processor_count(); i++) {
        if (i != processor_index() && !has_stopped(processor_at(i)))
            apic_send_nmi(processor_at(i)->apic_id);
    }
    for (unsigned i = 0; i < processor_count(); i++) {
        while (i != processor_index() && !has_stopped(processor_at(i)) &&
               time_now() - start < time_hz() / STOP_FRACTION)
            processor_relax();
    }
}

static void print_other(const struct processor *p)
{
    uint64_t offset;

    if (!has_stopped(p)) {
        console_printf("processor %u: does not stop\n", p->index);
        return;
    }
    const char *name = symbols_find(p->stopped_rip, &offset);
    console_printf("processor %u: at %016llx", p->index, (unsigned long long)p->stopped_rip);
    if (name)
        console_printf(" %s+0x%llx", name, (unsigned long long)offset);
    if (p->current)
        console_printf(", for %s", p->current->vm->settings->name);
    if (p->panic_text[0])
        console_printf(", panics too: %s", p->panic_text);
    console_printf("\n");
    if (p->stopped_rbp != 0 && p->stopped_rip != (uint64_t)trap_wait_halt) /* it slept */
        backtrace_print(p->stopped_rip, p->stopped_rbp, false);
}

static void print_others(void)
{
    for (unsigned i = 0; i < processor_count(); i++) {
        if (i != processor_index())
            print_other(processor_at(i));
    }
}

/* Before the consoles are open nobody would hear it: the UART that nearly all machines have, by
 * ports, needs nothing. */
static void open_last_console(void)
{
    struct uart_config com1 = {.base = UART_COM1, .stride = 1, .width = 1};

    if (!console_is_open() && uart_init(&com1))
        console_add_sink(uart_write);
}

/* --- the story -------------------------------------------------------------------------------- */

/* Say it once: a panic inside the panic only ends, and a second processor's only stops. */
__attribute__((format(printf, 2, 0))) static void begin(uint64_t rip, const char *format,
                                                        va_list args)
{
    struct processor *self = this_processor();
    unsigned who = NOBODY;

    __asm__ volatile("cli");
    if (!__atomic_compare_exchange_n(&panicking, &who, self->index, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE) &&
        who == self->index)
        power_end(at_end, false);
    vsnprintf(self->panic_text, sizeof(self->panic_text), format, args);
    if (who != NOBODY)
        stop(rip, 0);
    stop_others();
    console_seize();
    open_last_console();
    console_printf("\ntwofold: PANIC: %s\n", self->panic_text);
    console_printf("on processor %u, APIC id %u; addresses are 0x%llx above those of twofold.elf\n",
                   self->index, self->apic_id, (unsigned long long)symbols_slide());
}

__attribute__((noreturn)) static void end(void)
{
    print_others();
    console_printf("@end {\"status\": 2, \"panic\": true}\n");
    power_end(at_end, false);
}

void panic(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    begin((uint64_t)__builtin_return_address(0), format, args);
    va_end(args);
    backtrace_print((uint64_t)__builtin_return_address(0), (uint64_t)__builtin_frame_address(0),
                    true);
    end();
}

void panic_with_frame(const struct trap_frame *frame, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    begin(frame->rip, format, args);
    va_end(args);
    trap_print_registers(frame);
    backtrace_print(frame->rip, frame->rbp, false);
    end();
}

void __stack_chk_fail(void)
{
    panic("stack smashed");
}
