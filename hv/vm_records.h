/* SPDX-License-Identifier: BSD-2-Clause */
/* What is printed of a VM when it ends, for people and as records (docs/output.md). */
#ifndef HV_VM_RECORDS_H
#define HV_VM_RECORDS_H

#include "hv/memory.h"
#include "hv/vm.h"

/* How it ended; the second for a VM that was never made. */
void vm_print_end(const struct vm *vm);
void vm_print_end_record(const char *name, enum vm_end end, int status, const char *why);

void vm_print_stats(const struct vm *vm);

/* What became of the faults that the VM was given. */
void vm_print_fault(const struct vm_settings *settings);

/* What a VM has left behind, and what it had at the most. `lost_nodes` as cpt_lost_nodes; `others`:
 * VMs that are there now. */
void vm_print_memory(const struct vm_settings *settings, const struct account *account,
                     uint32_t lost_nodes, unsigned round, unsigned others);

/* When no VM is there: bytes that all of a round's have lost. */
void vm_print_round(unsigned round, int64_t lost);

#endif
