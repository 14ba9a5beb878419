/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor's own address space and its physical memory.
 *
 *   0xffff800000000000  direct map: RAM at its physical address plus a base, not executable. The
 *                       image is left out, so that its text and constants have no writable alias.
 *   0xffffc00000000000  stacks, each above an unmapped guard page
 *   0xffffd00000000000  devices, uncached or write-combining
 *   0xffffffff80000000  the image, each section with its own permissions
 *
 * These are where the windows begin. Where in each of them things lie is random, unless the
 * settings have `kaslr = off`: the base of the direct map in steps of 1 GiB, the first stack and
 * the image by pages, the first device by 2 MiB. The image's physical place is the firmware's
 * choice.
 *
 * Guest RAM lies in the direct map too: hypercalls, instruction fetches and table walks read it at
 * any address, and mapping it on demand would cost a TLB invalidation each.
 */
#ifndef ARCH_MEMORY_H
#define ARCH_MEMORY_H

#include "boot/handoff.h"
#include "hv/types.h"

#define STACK_SIZE KIB(16)

/*
 * Take over memory: give free ranges to the frame allocator, build the hypervisor's tables and load
 * them. Until this returns, host_ptr() gives the loader's one-to-one addresses.
 */
void memory_init(const struct handoff *handoff);

/*
 * SMEP, SMAP and UMIP for the hypervisor, where the processor has them. Says which are on. It has
 * no user pages and runs nothing at CPL 3: they are for the day on which something that should not
 * be one is taken for a page of ours.
 */
void memory_protect(bool want_smep, bool want_smap);

/* The bits of CR4 that it turned on, which every processor must have. */
uint64_t memory_protections(void);

/* A new stack of STACK_SIZE bytes above an unmapped page; returns its top, 0 without memory.
 * memory_need_stack panics then. */
uint64_t memory_new_stack(void);
uint64_t memory_need_stack(void);

/*
 * A page for a supervisor shadow stack (SDM 1 17.2.5), out of the direct map, with its token;
 * returns the token's address, at its top, or 0 without memory. No other processor may have the
 * page's place in the direct map in its TLB when it begins to be used.
 */
uint64_t memory_new_shadow_stack(void);

/* Where the n-th of them lies, from its lowest byte to its top; the page below is unmapped. False
 * if there are not so many. */
bool memory_stack(unsigned n, uint64_t *bottom, uint64_t *top);

/* Give back a stack that no processor has used yet. */
void memory_free_stack(uint64_t top);

/* Map a frame where its physical address is, too: executable and read-only. False without memory.
 */
bool memory_map_identity(hpa_t frame);

/* Take that back. Other processors that may have used it owe themselves an invalidation. */
void memory_unmap_identity(hpa_t frame);

/* Two pages in a row below 1 MiB that memory_init has kept, where a start-up IPI can lead; HPA_NONE
 * if the firmware left none. */
hpa_t memory_low_pages(void);

/* On a processor that has come into the hypervisor's tables: memory types and control registers as
 * the boot processor has them. */
void memory_enter(uint64_t cr4);

/* Whether [at, at + len) lies on a stack of ours. */
bool memory_is_stack(uint64_t at, uint64_t len);

/* Whether a part of [at, at + len) was free or the loader's: it is the hypervisor's, or a guest's.
 */
bool memory_has_free(uint64_t at, uint64_t len);

/* The firmware's memory map, for the self test. */
const struct handoff_range *memory_ranges(uint64_t *count);

/* The physical place of the image; *size gets its bytes. */
hpa_t memory_image(uint64_t *size);

/* Whether host-physical [at, at + len) is RAM that the direct map holds. */
bool memory_is_ram(uint64_t at, uint64_t len);

#endif
