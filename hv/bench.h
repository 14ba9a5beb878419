/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Benchmark records: what a guest measured between BENCH_BEGIN and BENCH_END (hv/guest_abi.h), or
 * between two marks, with the exits that it took: of all its virtual processors. Each record goes
 * to the console as one JSON line when it is complete, and to the table that is printed when all
 * VMs have ended. docs/output.md has the fields.
 */
#ifndef HV_BENCH_H
#define HV_BENCH_H

#include "hv/guest_abi.h"
#include "hv/paging/compound.h"
#include "hv/pmu.h"
#include "hv/types.h"

struct vm;
struct vcpu;

/* How a walk goes: by nodes alone, by nodes and then guest tables, by guest tables alone. */
enum bench_class { BENCH_BY_SHADOW, BENCH_MIXED, BENCH_BY_NESTED, BENCH_CLASSES };

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
    bool by_mark;         /* begun at TF_PORT_MARK: the hypervisor measures what others tell */
    uint64_t began;       /* by_mark: VM time of BEGIN */
    uint64_t *exits;      /* by reason: the counters at BEGIN, then the difference; one page */
    uint64_t walks;       /* audited walks */
    uint64_t audit_ticks; /* by_mark: that the audits took */
    uint64_t walk_references;
    struct cpt_stats paging;  /* at BEGIN, then the difference */
    struct cpt_counts counts; /* at END */
    bool look_due;            /* the exit of BEGIN is not behind us yet */
    uint64_t host_ticks;      /* after that exit, then the difference */
    struct pmu_reading pmu_begin;
    struct pmu_counts pmu; /* between BEGIN and END */
    /* Ranges that are sampled while the benchmark runs, and the samples so far, weighted by time.
     * by_mark: each walk weighs 1. */
    struct {
        gva_t from;
        uint64_t bytes, step;
    } watch[TF_BENCH_WATCHES];
    unsigned watches;
    uint64_t sampled;                     /* TSC, or the guest's own time, of the last sample */
    uint64_t sample_references;           /* thousandths, of that sample; 0: nothing is mapped */
    uint64_t sample_share[BENCH_CLASSES]; /* thousandths, likewise */
    uint64_t ticks_sampled, references_sampled, share_sampled[BENCH_CLASSES]; /* sums */
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
uint64_t bench_watch(struct vcpu *vcpu, gva_t from, uint64_t bytes, uint64_t step);

/*
 * The record of a mark, with the results of the calls above. END closes it: nothing can be audited
 * afterwards. `ops`: operations that were done, 0 if they went wrong.
 */
uint64_t bench_mark_begin(struct vcpu *vcpu, const char *name);
uint64_t bench_mark_end(struct vcpu *vcpu, uint32_t ops);

/* The guest was interrupted by a timer of the hypervisor's. If a mark's record runs and the last
 * look is long enough ago, audit the walks for the addresses that it has at hand. */
void bench_timer(struct vcpu *vcpu);

/* The time since the last sample goes to what that one found; take the next one. */
void bench_sample(struct vcpu *vcpu);

/* When the exit of BENCH_BEGIN has been handled, or later: what comes from now on counts. */
void bench_look(struct vcpu *vcpu);

/* Print the table of all records so far. */
void bench_print_table(void);

/* Whether a record so far was not ok. */
bool bench_any_failed(void);

#endif
