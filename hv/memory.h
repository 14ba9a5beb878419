/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's free memory, shared by all of the hypervisor. */
#ifndef HV_MEMORY_H
#define HV_MEMORY_H

#include "hv/frames.h"
#include "hv/ptab.h"

/* The one allocator. Filled at start from the firmware's memory map. */
extern struct frames host_frames;

/* A zeroed page from host_frames, or HPA_NONE. */
hpa_t host_page_alloc(void);
void host_page_free(hpa_t page);

/* `pages` zeroed, contiguous pages in the direct map; NULL when there are none. */
void *host_pages_alloc(size_t pages);
void host_pages_free(void *pages, size_t count);

/*
 * Give back a run that a guest had, `bytes` long: nothing of what it held can be read afterwards,
 * by whoever gets it next or otherwise. Likewise host_pages_free for what was ours.
 */
void host_run_free(hpa_t run, uint64_t bytes);

/* Overwrite `bytes` at `at`, so that nothing of them is left and a use after free shows. */
void host_wipe(void *at, uint64_t bytes);

/* Page tables in host_frames. */
extern const struct ptab_memory host_ptab_memory;

#endif
