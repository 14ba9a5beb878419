/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest's memory as its own instructions reach it: by linear address, through its own page
 * tables. */
#ifndef ARCH_GUEST_MEMORY_H
#define ARCH_GUEST_MEMORY_H

#include "hv/paging/walk.h"
#include "hv/vm.h"

/* An exception that an access raises. */
struct guest_fault {
    uint8_t vector; /* VECTOR_PF, VECTOR_GP or VECTOR_SS */
    uint32_t error_code;
    gva_t address; /* #PF: what CR2 gets */
};

/*
 * Copy `len` bytes from or to linear address `at`, with the rights of `access` (WALK_* bits; A and
 * D are set as by the processor). What is no RAM reads as all ones and forgets what is written.
 * False with *fault when the guest's tables forbid it: pages before the one that faults are then
 * copied already.
 */
bool guest_read(const struct vcpu *vcpu, gva_t at, void *to, uint64_t len, unsigned access,
                struct guest_fault *fault);
bool guest_write(const struct vcpu *vcpu, gva_t at, const void *from, uint64_t len, unsigned access,
                 struct guest_fault *fault);

/* Whether 4-level paging can translate the address, SDM 1 3.3.7.1. */
bool guest_is_canonical(gva_t at);

/* WALK_USER when the guest runs at CPL 3, else 0. */
unsigned guest_access_rights(void);

/*
 * The bytes of the instruction at the guest's RIP, at most `room`; fewer when the page after it
 * cannot be fetched. 0 when the first byte cannot.
 */
uint64_t guest_fetch(const struct vcpu *vcpu, uint8_t *to, uint64_t room);

#endif
