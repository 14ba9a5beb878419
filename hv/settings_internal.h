/* SPDX-License-Identifier: BSD-2-Clause */
/* What settings.c (lines, sections, and what of them fits together) and settings_keys.c (keys and
 * their values) share. */
#ifndef HV_SETTINGS_INTERNAL_H
#define HV_SETTINGS_INTERNAL_H

#include "hv/settings.h"

#define KEYS_MAX 64 /* in a section */

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define BLANKS             " \t"
#define NAME_CHARACTERS    LETTERS_AND_DIGITS "-_."

struct parser {
    const struct module_list *modules;
    struct settings *out;
    struct why *why;
    unsigned line;
    bool in_global; /* the section is [twofold] */
    bool seen_global;
    struct vm_settings *vm; /* the section is this VM's */
    /* Of this section: the line in which row n of its table of keys was last seen; 0: not yet. */
    unsigned key_line[KEYS_MAX];
    /* Of the whole file, likewise; 0: at its default. */
    unsigned run_line, processors_line, side_by_side_line, fail_line;
};

/* Reads a key's value into the settings. On failure it has said why. */
typedef bool value_reader(struct parser *p, const char *value);

struct key {
    const char *name;
    value_reader *read; /* NULL: a number of 32 bits at `offset` of what its section fills: struct
                           settings or struct vm_settings */
    bool may_repeat;
    uint32_t offset, least, most;
    const char *const *names; /* an enum's, `most` + 1 of them; NULL: digits */
};

struct key_table {
    const struct key *key;
    size_t count;
};

/* settings.c */
/* Say what is wrong with the line that is being read, or with another. Always false. */
__attribute__((format(printf, 2, 3))) bool settings_fail(struct parser *p, const char *format, ...);
__attribute__((format(printf, 3, 4))) bool settings_fail_at(struct parser *p, unsigned line,
                                                            const char *format, ...);

/* settings_keys.c */
/* The keys of [twofold], or those of a VM's section. */
struct key_table settings_keys(bool global);
/* Read the value of one into the settings. False when it has said what is wrong. */
bool settings_read_value(struct parser *p, const struct key *key, const char *value);
/* Copy a value that must fit into `room` bytes with its end. `what`: for the message. */
bool settings_copy_text(struct parser *p, char *to, size_t room, const char *value,
                        const char *what);

#endif
