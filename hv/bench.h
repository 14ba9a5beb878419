/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Benchmark records: what a guest measured between BENCH_BEGIN and BENCH_END (hv/guest_abi.h), with
 * the exits that it took. Each record goes to the console as one JSON line when it is complete, and
 * to the table that is printed when all VMs have ended. docs/output.md has the fields.
 */
#ifndef HV_BENCH_H
#define HV_BENCH_H

#include "hv/guest_abi.h"
#include "hv/types.h"

struct vm;
struct vcpu;

enum bench_state {
    BENCH_IDLE,
    BENCH_RUNNING, /* between BEGIN and END */
    BENCH_ENDED,   /* after END: audits may still be added */
};

/* The record that a VM is at work on. */
struct bench {
    enum bench_state state;
    char name[TF_BENCH_NAME_MAX];
    enum tf_phase phase;
    struct tf_bench_result result;
    uint64_t *exits; /* by reason: the counters at BEGIN, then the difference; one page */
    uint64_t walks;  /* audited walks */
    uint64_t walk_references;
};

/* False when there is no memory for the counters. */
bool bench_init(struct bench *bench);
/* Close the open record and free the counters. A record without END is reported as not ok. */
void bench_finish(struct vm *vm);

/* The hypercalls of the same names; `name` is checked and copied. Results are for the guest's RAX.
 */
uint64_t bench_begin(struct vcpu *vcpu, const char *name, enum tf_phase phase);
uint64_t bench_end(struct vcpu *vcpu, const struct tf_bench_result *result);
uint64_t bench_audit(struct vcpu *vcpu, gva_t from, uint64_t bytes, uint64_t step);

/* Print the table of all records so far. */
void bench_print_table(void);

/* Whether a record so far was not ok. */
bool bench_any_failed(void);

#endif
