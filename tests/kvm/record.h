/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Benchmark records of a guest under KVM: the calls that guests make at TF_PORT_CALL, and what
 * KVM counted between BENCH_BEGIN and BENCH_END as a @bench line (docs/kvm.md has its fields).
 */
#ifndef PEER_RECORD_H
#define PEER_RECORD_H

#include "hv/guest_abi.h"
#include "hv/loader.h"
#include "hv/paging/walk.h"
#include "tests/kvm/counters.h"
#include "tests/kvm/vmm.h"

struct snapshot {
    uint64_t vm[COUNTERS_MAX], vcpu[COUNTERS_MAX];
    uint64_t hits[REASONS_MAX]; /* exits by reason */
};

struct record {
    const struct peer_run *run;
    const struct guest_ram *ram;
    struct counters vm, vcpu;
    enum { RECORD_IDLE, RECORD_RUNNING, RECORD_ENDED } state;
    char name[TF_BENCH_NAME_MAX];
    enum tf_phase phase;
    struct tf_bench_result result;
    struct snapshot begin, end;
    uint64_t walks, references;
    bool references_known;
};

/* `vm_stats` and `vcpu_stats`: what KVM_GET_STATS_FD gave. False with a message on stderr. */
bool record_init(struct record *record, const struct peer_run *run, const struct guest_ram *ram,
                 int vm_stats, int vcpu_stats);

/*
 * The guest wrote `at` to TF_PORT_CALL, with `registers` in its processor. A call that is not known
 * or does not fit gives a TF_E value to the guest, as Twofold's hypercalls do.
 */
void record_call(struct record *record, gpa_t at, const struct walk_registers *registers);

/* Print the record that is open, if any. One without its end is not ok. */
void record_close(struct record *record);

/*
 * References of the EPT walk for one access, from the sizes of the pages that KVM has mapped: known
 * only while all have the same. 0: not known. SDM 3C 28.3.2: 4 levels for 4-KiB pages, 3 for 2 MiB.
 */
unsigned record_ept_references(uint64_t pages_4k, uint64_t pages_2m, uint64_t pages_1g);

#endif
