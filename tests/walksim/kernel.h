/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small guest kernel: it turns a trace's events into page tables as an operating system would,
 * with demand faults, copy on write, fork, and flushes. Each of its stores to a table is one that
 * the hypervisor may trap. A and D are set in entries that it makes for an access, as Linux does.
 */
#ifndef WALKSIM_KERNEL_H
#define WALKSIM_KERNEL_H

#include "tests/walksim/machine.h"
#include "tests/walksim/trace.h"

#define PROCESSES_MAX 64u
#define AREAS_MAX     4096u /* of one process */

struct area {
    uint64_t from, to;
    bool writable;
};

struct process {
    bool used;
    uint64_t root;
    struct area *area;
    unsigned areas, last;
};

struct kernel {
    struct machine *machine;
    bool large;   /* anonymous memory in 2-MiB pages where an area holds one whole */
    bool lenient; /* memory that no event mapped is there all the same: what a recorder did not see
                   */
    struct process process[PROCESSES_MAX];
    unsigned current;
    uint64_t direct_map; /* the entry of every root that maps all RAM */
    uint64_t next, end;  /* frames never used: small ones from below, large ones from above */
    uint64_t *free_small, *free_large;
    uint64_t free_smalls, free_larges;
    uint16_t
        *references; /* of a frame, by the entries that lead to it; of a large one by its first */
    const char *wrong;
};

bool kernel_create(struct kernel *k, struct machine *m, bool large, bool lenient);
void kernel_destroy(struct kernel *k);
/* One event; false with k->wrong (or the machine's). */
bool kernel_event(struct kernel *k, const struct event *e);
/* For tests: the frame and rights behind an address of a process, 0 when nothing is mapped. */
uint64_t kernel_entry_of(const struct kernel *k, unsigned process, uint64_t va);

#endif
