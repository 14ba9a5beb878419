/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's page walk in software, by the manual's rules (SDM 3A chapter 4): 32-bit, PAE, 4-level
 * and 5-level paging, permissions, reserved bits, error codes, A and D. The hypervisor uses it to
 * reach guest memory by guest-virtual address, and to count the references that a TLB miss costs.
 */
#ifndef HV_PAGING_WALK_H
#define HV_PAGING_WALK_H

#include "hv/types.h"

/* How the walk reaches guest-physical memory. */
struct walk_memory {
    void *context;
    /* Read an entry of `bytes` (4 or 8). What is not RAM reads as all ones, as on a PC. */
    uint64_t (*read)(void *context, gpa_t at, unsigned bytes);
    /* Replace an entry if it still is `old`, and false if it is not. What is not RAM takes the
     * write and forgets it: true. */
    bool (*compare_and_swap)(void *context, gpa_t at, unsigned bytes, uint64_t old, uint64_t set);
    /* References that the second dimension takes for one access to `at`; 0 without one. */
    unsigned (*nested_references)(void *context, gpa_t at);
};

/* The registers that a walk depends on. */
struct walk_registers {
    uint64_t cr0, cr3, cr4, efer, rflags;
    uint64_t pdpte[4];      /* PAE paging: the PDPTE registers, SDM 3A 4.4.1 */
    uint32_t pkru;          /* read when CR4.PKE is set */
    unsigned physical_bits; /* MAXPHYADDR */
    bool has_1g_pages;
};

enum walk_access {
    WALK_READ = 0,
    WALK_WRITE = 1u << 0,
    WALK_FETCH = 1u << 1,
    WALK_USER = 1u << 2,     /* at CPL 3 and not an implicit supervisor access */
    WALK_IMPLICIT = 1u << 3, /* implicit supervisor access: RFLAGS.AC does not override SMAP */
    WALK_SET_AD = 1u << 4,   /* set A and D as the processor would */
    WALK_NO_CHECK = 1u << 5, /* present and reserved bits only; no permissions */
};

enum walk_status {
    WALK_OK,
    WALK_FAULT, /* a #PF with `error_code` */
};

struct walk_result {
    enum walk_status status;
    uint32_t error_code; /* of a fault, SDM 3A figure 4-12 */
    gpa_t gpa;           /* WALK_OK: what the address translates to */
    unsigned level;      /* of the entry at which the walk ended; 0 without paging */
    unsigned references; /* memory references of both dimensions, no walk caches */
};

/* Walk for `at` (canonical: the caller has checked). `access`: WALK_* bits. */
struct walk_result walk(const struct walk_memory *memory, const struct walk_registers *registers,
                        gva_t at, unsigned access);

#endif
