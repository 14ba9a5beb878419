/* SPDX-License-Identifier: BSD-2-Clause */
/* Arguments: words "key=value", separated by spaces. */
#include "guest-tests/lib/lib.h"

#define KEYS_MAX 16

static const char *asked[KEYS_MAX];
static unsigned asked_count;

static const char *arguments(void)
{
    return (const char *)guest_info->args;
}

/* Whether the word at `word` is "key=...": then the value's start, else NULL. */
static const char *match(const char *word, const char *key)
{
    while (*key && *word == *key) {
        word++;
        key++;
    }
    return *key == '\0' && *word == '=' ? word + 1 : NULL;
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

static const char *find(const char *key)
{
    if (asked_count < KEYS_MAX)
        asked[asked_count++] = key;
    for (const char *at = skip_spaces(arguments()); *at; at = skip_spaces(skip_word(at))) {
        const char *value = match(at, key);
        if (value)
            return value;
    }
    return NULL;
}

uint64_t arg_number(const char *key, uint64_t standard)
{
    const char *value = find(key);
    uint64_t number = 0;

    if (!value)
        return standard;
    if (*value < '0' || *value > '9')
        fail("argument %s: not a number\n", key);
    for (; *value && *value != ' '; value++) {
        if (*value < '0' || *value > '9')
            fail("argument %s: not a number\n", key);
        number = number * 10 + (uint64_t)(*value - '0');
    }
    return number;
}

bool arg_word(const char *key, char *to, size_t room)
{
    const char *value = find(key);
    size_t i = 0;

    if (!value)
        return false;
    for (; value[i] && value[i] != ' '; i++) {
        if (i + 1 >= room)
            fail("argument %s: too long\n", key);
        to[i] = value[i];
    }
    to[i] = '\0';
    return true;
}

void args_done(void)
{
    for (const char *at = skip_spaces(arguments()); *at; at = skip_spaces(skip_word(at))) {
        bool known = false;
        for (unsigned i = 0; i < asked_count; i++)
            known |= match(at, asked[i]) != NULL;
        if (!known)
            fail("unknown argument: %s\n", at);
    }
}
