/* SPDX-License-Identifier: BSD-2-Clause */
/* Text on the UART, and the guest's end. */
#include <stdarg.h>

#include "guest-tests/lib/lib.h"

#define UART_DATA   0x3f8
#define UART_STATUS 0x3fd
#define THRE        0x20

static void put(char c)
{
    if (is_native()) {
        hypercall(TF_CALL_PORT_OUT, UART_DATA, 1, (uint8_t)c);
        return;
    }
    while (!(inb(UART_STATUS) & THRE))
        ;
    outb(UART_DATA, (uint8_t)c);
}

static void put_number(uint64_t value, unsigned base)
{
    char digits[20];
    unsigned count = 0;

    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (count > 0)
        put(digits[--count]);
}

static void print_list(const char *format, va_list args)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            for (const char *s = va_arg(args, const char *); *s; s++)
                put(*s);
            break;
        case 'c':
            put((char)va_arg(args, int));
            break;
        case 'u':
            put_number(va_arg(args, uint64_t), 10);
            break;
        case 'x':
            put_number(va_arg(args, uint64_t), 16);
            break;
        default:
            put(*format);
            break;
        }
    }
}

void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print_list(format, args);
    va_end(args);
}

void guest_exit(uint32_t value)
{
    if (is_native())
        hypercall(TF_CALL_PORT_OUT, TF_PORT_DEBUG_EXIT, 4, value);
    outl(TF_PORT_DEBUG_EXIT, value);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void fail(const char *format, ...)
{
    va_list args;

    print("FAIL ");
    va_start(args, format);
    print_list(format, args);
    va_end(args);
    guest_exit(1);
}
