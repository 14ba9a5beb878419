/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM's compound page table (hv/paging): its memory, its settings, and what people see of it.
 *
 * COMPOUND's nodes lie behind the VM's RAM in the same host block. The node window shows that block
 * read-only, so that it can be mapped by 1-GiB pages: a guest finds in it its own RAM, its own
 * nodes, and zeros.
 */
#ifndef HV_GUEST_PAGING_H
#define HV_GUEST_PAGING_H

#include "hv/vm.h"

/* Bytes of host memory for `s`'s RAM and nodes, in the sizes to try one after another; returns how
 * many. */
unsigned guest_paging_block_sizes(const struct vm_settings *s, uint64_t sizes[2]);

/* Make the table of `vm`, whose RAM is there. Does nothing with paging = nested. */
bool guest_paging_create(struct vm *vm, struct why *why);
void guest_paging_destroy(struct vm *vm);

/* A device has written `len` bytes of RAM at `at`: tables among them are followed. */
void guest_paging_written(struct vm *vm, gpa_t at, uint64_t len);

/*
 * Leave word that the VM's memory is to be translated so from now on; modes are nested, shadow and
 * compound. Only of a VM that has a compound table. False while an earlier change is not done. By
 * the boot processor.
 */
bool guest_paging_ask(struct vm *vm, const struct paging_choice *choice);

/* Make the change that was asked for, unless a page of tables is open: then it waits. By virtual
 * processor 0, under the VM's lock. */
void guest_paging_change(struct vm *vm);

/* For people, as lines of the log: states and counters, the map of regions, both. */
void guest_paging_print_counts(const struct vm *vm);
void guest_paging_print_map(const struct vm *vm);
void guest_paging_print(const struct vm *vm);

/* For programs: the members of a JSON object, after a comma; nothing with paging = nested. */
void guest_paging_print_json(const struct vm *vm);

/* The events that the ring holds, one record each. */
void guest_paging_print_trace(const struct vm *vm);

/* References of a walk for `at` by the virtual processor as it runs now; false where nothing is
 * mapped. */
bool guest_paging_audit(const struct vcpu *vcpu, gva_t at, struct cpt_audit *audit);

#endif
