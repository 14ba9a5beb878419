/* SPDX-License-Identifier: BSD-2-Clause */
/* What the 32-bit Multiboot guests share: text on the UART, arguments, port access, and the end. */
#ifndef GUEST_LIB32_H
#define GUEST_LIB32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void put(char c);
void put_text(const char *text);
void put_hex(uint64_t value);
void put_number(uint32_t value);

/* End the guest with `value` on the debug-exit port. */
__attribute__((noreturn)) void end(uint32_t value);

/* Unless `condition` holds: print "FAIL " and `what`, and end with value 1. */
void check(bool condition, const char *what);

/*
 * The words after the image's name in the command line of the boot information `info`: "key=value",
 * or a word alone. Copies them, so that the boot information may be overwritten afterwards.
 */
void args_init(uint32_t magic, const void *info);
/* The decimal number given for `key`, else `standard`. A value that is no number ends with FAIL. */
uint32_t arg_number(const char *key, uint32_t standard);
/* The word given for `key`, copied to `to`; false if there is none. Too long a one ends with FAIL.
 */
bool arg_word(const char *key, char *to, size_t room);
/* Whether `word` stands alone among the arguments. */
bool arg_flag(const char *word);
/* After all have been asked for: an argument that nobody asked for ends with FAIL. */
void args_done(void);

bool text_equal(const char *a, const char *b);
void *memset(void *to, int value, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);

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

static inline void outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint16_t inw(uint16_t port)
{
    uint16_t value;

    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void outl(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

#endif
