/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's memory: what is given is clear, and what is given back keeps nothing of what it
 * held. */
#include "hv/memory.h"

#include <stdlib.h>
#include <string.h>

#include "hv/arch.h"
#include "tests/host/test.h"

#define BYTES  MIB(1)
#define BASE   MIB(16)
#define SECRET 0x77

static uint8_t *ram; /* BYTES at host-physical BASE */

void *host_ptr(hpa_t at)
{
    return ram + (at.v - BASE);
}

hpa_t host_hpa(const void *in_direct_map)
{
    return hpa(BASE + (uint64_t)((const uint8_t *)in_direct_map - ram));
}

unsigned processor_index(void)
{
    return 0;
}

static void start(void)
{
    frames_init(&host_frames, host_ptr);
    CHECK(frames_add(&host_frames, hpa(BASE), BYTES), "refused");
    memset(ram, SECRET, BYTES); /* as whoever was here before left it */
}

static uint64_t secrets(void)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < BYTES; i++)
        count += ram[i] == SECRET;
    return count;
}

static bool is_clear(const uint8_t *at, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (at[i] != 0)
            return false;
    }
    return true;
}

static void what_is_given_is_clear(void)
{
    start();
    for (size_t pages = 1; pages <= 16; pages *= 2) {
        const uint8_t *at = host_pages_alloc(pages);
        CHECK(at && is_clear(at, pages * PAGE_SIZE), "%zu pages", pages);
    }
    hpa_t page = host_page_alloc();
    CHECK(is_clear(host_ptr(page), PAGE_SIZE), "a page");
    page = host_ptab_memory.alloc(NULL);
    CHECK(is_clear(host_ptr(page), PAGE_SIZE), "a table");
}

/* Pages of the hypervisor's, tables, and a guest's RAM, which is taken as a run. */
static void what_is_given_back_keeps_nothing(void)
{
    start();
    void *pages = host_pages_alloc(5);
    hpa_t page = host_page_alloc(), table = host_ptab_memory.alloc(NULL);
    hpa_t run = frames_alloc(&host_frames, BYTES - 7 * PAGE_SIZE, PAGE_SIZE);
    CHECK(pages && !hpa_is_none(page) && !hpa_is_none(table) && !hpa_is_none(run), "too little");
    CHECK(host_frames.free_bytes == 0, "it is not all");
    memset(ram, SECRET, BYTES);
    host_pages_free(pages, 5);
    host_page_free(page);
    host_ptab_memory.free(NULL, table);
    host_run_free(run, BYTES - 7 * PAGE_SIZE);
    CHECK(secrets() == 0, "%llu bytes are left", (unsigned long long)secrets());
    CHECK(host_frames.free_bytes == BYTES, "%llu bytes are free",
          (unsigned long long)host_frames.free_bytes);
}

int main(void)
{
    ram = malloc(BYTES);
    if (!ram)
        return 1;
    RUN(what_is_given_is_clear);
    RUN(what_is_given_back_keeps_nothing);
    free(ram);
    return test_status();
}
