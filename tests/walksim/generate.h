/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Generators of traces: the bundled microbenchmarks' patterns, and patterns named after the
 * workloads of "Agile Paging" (ISCA 2016). The latter are generators and no more: they have the
 * footprints' order, scaled to what a simulation can hold, and mixes of stable and changing memory
 * in the spirit of the programs; they are not recordings of them, and what is measured with them is
 * not measured with those programs. docs/walksim.md has their parameters.
 */
#ifndef WALKSIM_GENERATE_H
#define WALKSIM_GENERATE_H

#include "tests/walksim/trace.h"

/* Takes events as they come; false ends the generator. */
struct sink {
    void *context;
    bool (*event)(void *context, const struct event *e);
};

struct generator {
    const char *name, *about;
    bool workload; /* of the paper's kind, not a microbenchmark */
    void (*run)(struct sink *sink, uint64_t accesses);
};

extern const struct generator generators[];
extern const unsigned generator_count;
const struct generator *generator_find(const char *name);

#endif
