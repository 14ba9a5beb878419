/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What newlib's printf refers to and the hypervisor does not have. A heap: only asprintf-like calls
 * and exact conversions of floating-point numbers reach it, and neither is used; should one ever
 * be, it gets the answer "out of memory", which newlib handles. A locale: it is C, where %' groups
 * nothing.
 */
#include <locale.h>
#include <stddef.h>

void *_malloc_r(struct _reent *reent, size_t size);
void *_realloc_r(struct _reent *reent, void *old, size_t size);
void _free_r(struct _reent *reent, void *old);

static char none[] = "";
static struct lconv c_locale = {.decimal_point = none, .thousands_sep = none, .grouping = none};

struct lconv *_localeconv_r(struct _reent *reent)
{
    (void)reent;
    return &c_locale;
}

void *_malloc_r(struct _reent *reent, size_t size)
{
    (void)reent;
    (void)size;
    return NULL;
}

void *_realloc_r(struct _reent *reent, void *old, size_t size)
{
    (void)reent;
    (void)old;
    (void)size;
    return NULL;
}

void _free_r(struct _reent *reent, void *old)
{
    (void)reent;
    (void)old;
}
