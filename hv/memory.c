/* SPDX-License-Identifier: BSD-2-Clause */
/* See memory.h. */
#include "hv/memory.h"

#include <string.h>

#include "hv/arch.h"
#include "hv/faults.h"
#include "hv/settings.h"
#include "hv/watchdog.h"

/* Freed memory is filled with this. */
#define FREED_JUNK 0xdb

#define FILL_AT_ONCE MIB(64)

struct frames host_frames;

static struct account *accounts[PROCESSORS_MAX]; /* by processor, whose own it is */

struct account *memory_account(struct account *account)
{
    struct account *before = accounts[processor_index()];

    accounts[processor_index()] = account;
    return before;
}

static void count(int64_t bytes)
{
    struct account *a = accounts[processor_index()];

    if (!a)
        return;
    int64_t now = __atomic_add_fetch(&a->bytes, bytes, __ATOMIC_RELAXED);
    int64_t most = __atomic_load_n(&a->most, __ATOMIC_RELAXED);
    while (now > most && !__atomic_compare_exchange_n(&a->most, &most, now, false, __ATOMIC_RELAXED,
                                                      __ATOMIC_RELAXED))
        ;
}

hpa_t host_run_alloc(uint64_t size, uint64_t align)
{
    hpa_t run = fault_alloc(size) ? HPA_NONE : frames_alloc(&host_frames, size, align);

    if (!hpa_is_none(run))
        count((int64_t)align_up(size, PAGE_SIZE));
    return run;
}

/* RAM may be very large: the watchdog is to see that this gets on. */
static void fill(void *at, int with, uint64_t bytes)
{
    uint8_t *to = at;

    while (bytes > 0) {
        uint64_t part = min_u64(bytes, FILL_AT_ONCE);
        memset(to, with, part);
        watchdog_beat();
        to += part;
        bytes -= part;
    }
}

void host_clear(void *at, uint64_t bytes)
{
    fill(at, 0, bytes);
}

void host_wipe(void *at, uint64_t bytes)
{
    fill(at, FREED_JUNK, bytes);
}

void host_run_free(hpa_t run, uint64_t bytes)
{
    host_wipe(host_ptr(run), bytes);
    host_run_free_wiped(run, bytes);
}

void host_run_free_wiped(hpa_t run, uint64_t bytes)
{
    frames_free(&host_frames, run, bytes);
    count(-(int64_t)align_up(bytes, PAGE_SIZE));
}

void *host_pages_alloc(size_t pages)
{
    hpa_t run = host_run_alloc(pages * PAGE_SIZE, PAGE_SIZE);

    if (hpa_is_none(run))
        return NULL;
    void *at = host_ptr(run);
    host_clear(at, pages * PAGE_SIZE);
    return at;
}

void host_pages_free(void *at, size_t pages)
{
    host_run_free(host_hpa(at), pages * PAGE_SIZE);
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
