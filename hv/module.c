/* SPDX-License-Identifier: BSD-2-Clause */
/* See module.h. */
#include "hv/module.h"

#include <strings.h>

const struct module *module_find(const struct module_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcasecmp(list->module[i].name, name) == 0)
            return &list->module[i];
    }
    return NULL;
}
