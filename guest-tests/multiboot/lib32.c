/* SPDX-License-Identifier: BSD-2-Clause */
/* See lib32.h. */
#include "guest-tests/multiboot/lib32.h"

void put(char c)
{
    while (!(inb(0x3fd) & 0x20))
        ;
    outb(0x3f8, (uint8_t)c);
}

void put_text(const char *text)
{
    while (*text)
        put(*text++);
}

void put_hex(uint64_t value)
{
    bool begun = false;

    put_text("0x");
    for (int shift = 60; shift >= 0; shift -= 4) {
        unsigned digit = (unsigned)(value >> shift) & 15;
        begun |= digit != 0 || shift == 0;
        if (begun)
            put("0123456789abcdef"[digit]);
    }
}

void end(uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"((uint16_t)0xf4));
    for (;;)
        __asm__ volatile("cli; hlt");
}

void check(bool condition, const char *what)
{
    if (condition)
        return;
    put_text("FAIL ");
    put_text(what);
    put('\n');
    end(1);
}
