/* SPDX-License-Identifier: BSD-2-Clause */
/* See panic.c; panic() itself is declared in hv/arch.h. */
#ifndef ARCH_PANIC_H
#define ARCH_PANIC_H

#include "arch/x86_64/trap.h"
#include "hv/settings.h"

/* How the machine ends after a panic; until this is called it stays as it is. */
void panic_set_end(enum at_end how);

/* For every NMI: if another processor panics, this one stops here, where `rip` is, for good. `rbp`:
 * the hypervisor's frame pointer there, for a back trace; 0 where a guest ran. */
void panic_stop_if_asked(uint64_t rip, uint64_t rbp);

/* A panic with the registers of an exception. */
__attribute__((noreturn, format(printf, 2, 3))) void
panic_with_frame(const struct trap_frame *frame, const char *format, ...);

#endif
