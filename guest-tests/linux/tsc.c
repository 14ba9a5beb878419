/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program for the test systems' scripts, which have no other way to read the time-stamp counter:
 * prints it in decimal. On Bochs it counts instructions. Without the C library, so that it is small
 * and starts in a few thousand of them.
 */
#include <stdint.h>

#define SYS_write 1L
#define SYS_exit  60L
#define STDOUT    1L
#define DIGITS    20 /* of the largest 64-bit number */

static long system_call(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

__attribute__((noreturn, used)) void _start(void)
{
    uint32_t low, high;
    char text[DIGITS + 1];
    char *p = text + sizeof(text);

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    *--p = '\n';
    uint64_t value = (uint64_t)high << 32 | low;
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);

    long length = text + sizeof(text) - p;
    long written = system_call(SYS_write, STDOUT, (long)p, length);
    for (;;)
        system_call(SYS_exit, written != length, 0, 0);
}
