/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What KVM counts: its binary statistics by name (KVM_GET_STATS_FD in Linux'
 * Documentation/virt/kvm/api.rst) and exits by reason, from a histogram trigger on its tracepoint
 * kvm_exit (Documentation/trace/histogram.rst).
 */
#ifndef PEER_COUNTERS_H
#define PEER_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define COUNTERS_MAX     128u
#define COUNTER_NAME_MAX 48u
#define REASONS_MAX      128u

/* One file of statistics, of the VM or of its processor: names and where each value lies. */
struct counters {
    int fd;
    unsigned count;
    struct counter {
        char name[COUNTER_NAME_MAX];
        off_t at;  /* in the file */
        bool sums; /* grows only, so that a difference means something; else it is a level */
    } counter[COUNTERS_MAX];
};

/*
 * Read the descriptors of the statistics file `fd`, which stays the caller's. Counters of one value
 * are kept; histograms are not. False with a message on stderr when the file is not as documented.
 */
bool counters_open(struct counters *counters, int fd);

/* Read all values, `value[i]` for `counters->counter[i]`. */
bool counters_read(const struct counters *counters, uint64_t *value);

/* The index of `name`, or -1. */
int counters_find(const struct counters *counters, const char *name);

/*
 * Take the lines of a histogram of kvm_exit by exit_reason apart: `hits[r]` becomes the hits of
 * reason r, all others 0. False when a line has another form, or reasons do not fit or were
 * dropped.
 */
bool histogram_parse(const char *text, uint64_t hits[REASONS_MAX]);

/* Twofold's name of an exit reason (arch/x86_64/exit.c), or NULL. */
const char *exit_reason_name(unsigned reason);

#endif
