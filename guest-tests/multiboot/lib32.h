/* SPDX-License-Identifier: BSD-2-Clause */
/* What the 32-bit Multiboot guests share: text on the UART, and the end. */
#ifndef GUEST_LIB32_H
#define GUEST_LIB32_H

#include <stdbool.h>
#include <stdint.h>

void put(char c);
void put_text(const char *text);
void put_hex(uint64_t value);

/* End the guest with `value` on the debug-exit port. */
__attribute__((noreturn)) void end(uint32_t value);

/* Unless `condition` holds: print "FAIL " and `what`, and end with value 1. */
void check(bool condition, const char *what);

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

#endif
