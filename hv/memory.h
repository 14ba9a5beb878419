/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's free memory, shared by all of the hypervisor. */
#ifndef HV_MEMORY_H
#define HV_MEMORY_H

#include "hv/frames.h"
#include "hv/ptab.h"

/* The one allocator. Filled at start from the firmware's memory map. */
extern struct frames host_frames;

/*
 * What is taken and given back on a processor goes into its account: while it makes, runs or clears
 * up after a VM that is the VM's, so that what a VM leaves behind is found at its end, whoever else
 * runs then.
 */
struct account {
    int64_t bytes; /* taken and not given back; several processors may have the same account */
    int64_t most;
};

/* From now on this processor's account is `account`; NULL: none. The one it had before. */
struct account *memory_account(struct account *account);

/* A run for a VM's RAM, whose content is undefined; as frames_alloc. */
hpa_t host_run_alloc(uint64_t size, uint64_t align);

/* A zeroed page from host_frames, or HPA_NONE. */
hpa_t host_page_alloc(void);
void host_page_free(hpa_t page);

/* `pages` zeroed, contiguous pages in the direct map; NULL when there are none. */
void *host_pages_alloc(size_t pages);
void host_pages_free(void *at, size_t pages);

/*
 * Give back a run that a guest had, `bytes` long: nothing of what it held can be read afterwards,
 * by whoever gets it next or otherwise. Likewise host_pages_free for what was ours.
 */
void host_run_free(hpa_t run, uint64_t bytes);

/* The same for who has wiped the run before. */
void host_run_free_wiped(hpa_t run, uint64_t bytes);

/* Zeros, of any length. */
void host_clear(void *at, uint64_t bytes);

/* Overwrite `bytes` at `at`, so that nothing of them is left and a use after free shows. */
void host_wipe(void *at, uint64_t bytes);

/* Page tables in host_frames. */
extern const struct ptab_memory host_ptab_memory;

#endif
