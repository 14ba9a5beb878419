/* SPDX-License-Identifier: BSD-2-Clause */
/* See memory.h. */
#include "hv/memory.h"

#include <string.h>

#include "hv/arch.h"

/* Freed memory is filled with this. */
#define FREED_JUNK 0xdb

struct frames host_frames;

void *host_pages_alloc(size_t pages)
{
    hpa_t run = frames_alloc(&host_frames, pages * PAGE_SIZE, PAGE_SIZE);

    if (hpa_is_none(run))
        return NULL;
    void *at = host_ptr(run);
    memset(at, 0, pages * PAGE_SIZE);
    return at;
}

void host_wipe(void *at, uint64_t bytes)
{
    memset(at, FREED_JUNK, bytes);
}

void host_run_free(hpa_t run, uint64_t bytes)
{
    host_wipe(host_ptr(run), bytes);
    frames_free(&host_frames, run, bytes);
}

void host_pages_free(void *pages, size_t count)
{
    host_run_free(host_hpa(pages), count * PAGE_SIZE);
}

hpa_t host_page_alloc(void)
{
    void *page = host_pages_alloc(1);

    return page ? host_hpa(page) : HPA_NONE;
}

void host_page_free(hpa_t page)
{
    host_pages_free(host_ptr(page), 1);
}

static hpa_t table_alloc(void *context)
{
    (void)context;
    return host_page_alloc();
}

static void table_free(void *context, hpa_t table)
{
    (void)context;
    host_page_free(table);
}

static uint64_t *table_map(void *context, hpa_t table)
{
    (void)context;
    return host_ptr(table);
}

const struct ptab_memory host_ptab_memory = {
    .alloc = table_alloc, .free = table_free, .map = table_map};
