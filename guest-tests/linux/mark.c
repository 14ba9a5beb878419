/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program for the systems' scripts: begins and ends a record of Twofold's by its port of marks
 * (hv/guest_abi.h).
 *
 *   mark begin NAME
 *   mark end OPERATIONS     0: they went wrong
 *
 * Where there is no Twofold nothing is at the port, and nothing happens. The exit status is 1 if
 * the arguments are wrong or the port is not to be had. Without the C library, as tsc.c.
 */
#include <stdint.h>

#include "hv/guest_abi.h"

#define SYS_exit   60L
#define SYS_ioperm 173L
#define PORT_BYTES 4L

static long system_call(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

static int is_equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* The name with its NUL by one instruction, and so by one exit of the virtual machine. */
static void begin(const char *name)
{
    uint64_t length = 1;

    while (name[length - 1])
        length++;
    __asm__ volatile("rep outsb" : "+S"(name), "+c"(length) : "d"(TF_PORT_MARK) : "memory");
}

static void end(const char *digits)
{
    uint32_t operations = 0;

    while (*digits >= '0' && *digits <= '9')
        operations = operations * 10 + (uint32_t)(*digits++ - '0');
    __asm__ volatile("outl %0, %w1" : : "a"(operations), "d"(TF_PORT_MARK) : "memory");
}

static int mark(uint64_t count, char **arguments)
{
    if (count != 3 || system_call(SYS_ioperm, TF_PORT_MARK, PORT_BYTES, 1) != 0)
        return 1;
    if (is_equal(arguments[1], "begin"))
        begin(arguments[2]);
    else if (is_equal(arguments[1], "end"))
        end(arguments[2]);
    else
        return 1;
    return 0;
}

/* `stack`: as the kernel has it, the arguments' number and pointers to them. */
__attribute__((noreturn, used)) void start(uint64_t *stack)
{
    int status = mark(stack[0], (char **)(stack + 1));

    for (;;)
        system_call(SYS_exit, status, 0, 0);
}

__asm__(".globl _start\n"
        "_start: mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call start\n");
