/* SPDX-License-Identifier: BSD-2-Clause */
/* See lib32.h. */
#include "guest-tests/multiboot/lib32.h"

#define BOOTLOADER_MAGIC 0x2badb002u
#define INFO_FLAGS       0 /* indices of 32-bit fields, Multiboot 0.6.96, 3.3 */
#define INFO_CMDLINE     4
#define HAS_CMDLINE      (1u << 2)

#define ARGUMENTS_MAX 256u
#define KEYS_MAX      16u

static char arguments[ARGUMENTS_MAX];
static const char *asked[KEYS_MAX];
static unsigned asked_count;

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

void put_number(uint32_t value)
{
    char digits[10];
    unsigned count = 0;

    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count > 0)
        put(digits[--count]);
}

void end(uint32_t value)
{
    outl(0xf4, value);
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

static const char *skip_spaces(const char *at)
{
    while (*at == ' ')
        at++;
    return at;
}

static const char *skip_word(const char *at)
{
    while (*at && *at != ' ')
        at++;
    return at;
}

void args_init(uint32_t magic, const void *info)
{
    const uint32_t *fields = info;

    check(magic == BOOTLOADER_MAGIC, "EAX is not the boot loader's magic number");
    if (!(fields[INFO_FLAGS] & HAS_CMDLINE))
        return;
    const char *from = skip_word(skip_spaces((const char *)(uintptr_t)fields[INFO_CMDLINE]));
    size_t i = 0;
    for (; from[i]; i++) {
        check(i + 1 < sizeof(arguments), "the arguments are too long");
        arguments[i] = from[i];
    }
    arguments[i] = '\0';
}

/* Whether the word at `word` starts with `key`: then what comes after it, else NULL. */
static const char *match(const char *word, const char *key)
{
    while (*key && *word == *key) {
        word++;
        key++;
    }
    return *key == '\0' ? word : NULL;
}

static bool is_flag(const char *rest)
{
    return rest && (*rest == ' ' || *rest == '\0');
}

static bool is_key(const char *rest)
{
    return rest && *rest == '=';
}

/* What follows `key` where `wanted` says that it is the right word; NULL if it is nowhere. */
static const char *find(const char *key, bool (*wanted)(const char *rest))
{
    if (asked_count < KEYS_MAX)
        asked[asked_count++] = key;
    for (const char *at = skip_spaces(arguments); *at; at = skip_spaces(skip_word(at))) {
        const char *rest = match(at, key);
        if (wanted(rest))
            return rest;
    }
    return NULL;
}

uint32_t arg_number(const char *key, uint32_t standard)
{
    const char *value = find(key, is_key);
    uint32_t number = 0;

    if (!value)
        return standard;
    check(value[1] >= '0' && value[1] <= '9', "an argument is no number");
    for (value++; *value && *value != ' '; value++) {
        check(*value >= '0' && *value <= '9', "an argument is no number");
        number = number * 10 + (uint32_t)(*value - '0');
    }
    return number;
}

bool arg_word(const char *key, char *to, size_t room)
{
    const char *value = find(key, is_key);
    size_t i = 0;

    if (!value)
        return false;
    for (value++; value[i] && value[i] != ' '; i++) {
        check(i + 1 < room, "an argument is too long");
        to[i] = value[i];
    }
    to[i] = '\0';
    return true;
}

bool arg_flag(const char *word)
{
    return find(word, is_flag) != NULL;
}

void args_done(void)
{
    for (const char *at = skip_spaces(arguments); *at; at = skip_spaces(skip_word(at))) {
        bool known = false;
        for (unsigned i = 0; i < asked_count; i++) {
            const char *rest = match(at, asked[i]);
            known |= is_flag(rest) || is_key(rest);
        }
        check(known, "an argument is unknown");
    }
}

bool text_equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* The compiler calls these two by itself. */
void *memset(void *to, int value, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}
