/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Modules: the files of \twofold\ on the EFI partition, as the loader left them in memory.
 */
#ifndef HV_MODULE_H
#define HV_MODULE_H

#include <stddef.h>

struct module {
    const char *name; /* file name without directory, as spelt on the partition */
    const void *data;
    size_t size; /* bytes */
};

struct module_list {
    const struct module *module;
    size_t count;
};

/* The module called `name` (FAT names: letters compare without case), or NULL. */
const struct module *module_find(const struct module_list *list, const char *name);

#endif
