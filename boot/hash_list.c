/* SPDX-License-Identifier: BSD-2-Clause */
/* See hash_list.h. */
#include "boot/hash_list.h"

#define DIGITS     (2u * SHA256_BYTES)
#define NAME_BEGIN (DIGITS + 2)

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool same_file_name(const char *name, const char *other, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (name[i] == '\0' || lower(name[i]) != lower(other[i]))
            return false;
    }
    return name[bytes] == '\0';
}

/* The value of a hexadecimal digit, or -1. */
static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* `digits` are two for each byte of the digest. */
static bool same_digest(const char *digits, const uint8_t digest[SHA256_BYTES])
{
    for (unsigned i = 0; i < DIGITS; i++) {
        unsigned half = i % 2 == 0 ? digest[i / 2] >> 4 : digest[i / 2] & 0xf;
        if (digit_value(digits[i]) != (int)half)
            return false;
    }
    return true;
}

static bool line_has(const char *line, uint64_t bytes, const char *name,
                     const uint8_t digest[SHA256_BYTES])
{
    return bytes > NAME_BEGIN && line[DIGITS] == ' ' &&
           (line[DIGITS + 1] == ' ' || line[DIGITS + 1] == '*') &&
           same_file_name(name, line + NAME_BEGIN, bytes - NAME_BEGIN) && same_digest(line, digest);
}

bool hash_list_has(const char *list, uint64_t bytes, const char *name,
                   const uint8_t digest[SHA256_BYTES])
{
    for (uint64_t at = 0; at < bytes;) {
        uint64_t end = at;
        while (end < bytes && list[end] != '\n')
            end++;
        if (line_has(list + at, end - at, name, digest))
            return true;
        at = end + 1;
    }
    return false;
}
