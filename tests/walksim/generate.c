/* SPDX-License-Identifier: BSD-2-Clause */
/* See generate.h. Each generator first maps and touches its memory once, in order, as programs that
 * load data do. */
#include "tests/walksim/generate.h"

#include <string.h>

#define PAGE    4096ull
#define MIB(n)  ((n)*256ull) /* pages */
#define HEAP    0x100000000ull
#define SCRATCH 0x400000000ull /* where what comes and goes is mapped */
#define WORK    12u            /* instructions between two accesses to other pages */

struct state {
    struct sink *sink;
    uint64_t random, left;
    bool over;
};

static void emit(struct state *s, struct event e)
{
    if (!s->over && !s->sink->event(s->sink->context, &e))
        s->over = true;
}

static uint64_t next(struct state *s, uint64_t n)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (s->random * 0x2545f4914f6cdd1dull >> 32) * n >> 32;
}

/* Skewed to the low ones: half of what is drawn is an eighth of n, as caches of popular items have
 * it. */
static uint64_t skewed(struct state *s, uint64_t n)
{
    uint64_t a = next(s, 1u << 20), b = a * a >> 20, c = b * a >> 20;

    return c * n >> 20;
}

static void touch(struct state *s, uint64_t page, bool write, uint64_t instructions,
                  uint64_t repeats)
{
    emit(s, (struct event){.kind = EVENT_ACCESS,
                           .access = write ? ACCESS_WRITE : ACCESS_READ,
                           .address = page * PAGE,
                           .instructions = instructions,
                           .repeats = repeats});
    if (s->left > 0)
        s->left--;
    else
        s->over = true;
}

static void map(struct state *s, uint64_t page, uint64_t pages)
{
    emit(s, (struct event){
                .kind = EVENT_MMAP, .address = page * PAGE, .pages = pages, .writable = true});
}

static void unmap(struct state *s, uint64_t page, uint64_t pages)
{
    emit(s, (struct event){.kind = EVENT_MUNMAP, .address = page * PAGE, .pages = pages});
}

static void protect(struct state *s, uint64_t page, uint64_t pages, bool writable)
{
    emit(s,
         (struct event){
             .kind = EVENT_MPROTECT, .address = page * PAGE, .pages = pages, .writable = writable});
}

static void fill(struct state *s, uint64_t page, uint64_t pages)
{
    for (uint64_t i = 0; i < pages && !s->over; i++)
        touch(s, page + i, true, 64, 7);
}

#define heap_page    (HEAP / PAGE)
#define scratch_page (SCRATCH / PAGE)

static struct state begin(struct sink *sink, uint64_t accesses, uint64_t heap_pages)
{
    struct state s = {.sink = sink, .random = 88172645463325252ull, .left = accesses};

    map(&s, heap_page, heap_pages);
    fill(&s, heap_page, heap_pages);
    return s;
}

/* A buffer of the scratch area: mapped, written, read, unmapped. */
static void buffer(struct state *s, uint64_t slot, uint64_t pages)
{
    uint64_t at = scratch_page + slot * 4096;

    map(s, at, pages);
    fill(s, at, pages);
    for (uint64_t i = 0; i < pages && !s->over; i++)
        touch(s, at + i, false, 64, 7);
    unmap(s, at, pages);
}

/* --- microbenchmarks ----------------------------------------------------------------------------
 */

static void run_touch(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 16384);

    while (!s.over)
        touch(&s, heap_page + next(&s, 16384), false, 25, 0);
}

static void run_churn(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 64);

    for (uint64_t n = 0; !s.over; n++) {
        uint64_t at = scratch_page + n % 512;
        map(&s, at, 1);
        touch(&s, at, true, 40, 1);
        unmap(&s, at, 1);
    }
}

static void run_mixed(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 8192);

    for (uint64_t n = 0; !s.over; n++) {
        touch(&s, heap_page + next(&s, 8192), false, 25, 0);
        if (n % 8 == 7) {
            uint64_t at = scratch_page + n / 8 % 512;
            map(&s, at, 1);
            touch(&s, at, true, 40, 1);
            unmap(&s, at, 1);
        }
    }
}

static void run_batch(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 8192);

    for (bool writable = false; !s.over; writable = !writable) {
        protect(&s, heap_page + next(&s, 128) * 64, 64, writable);
        for (unsigned n = 0; n < 5000 && !s.over; n++)
            touch(&s, heap_page + next(&s, 8192), false, 25, 0);
    }
}

static void run_demand(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 64);

    while (!s.over) {
        map(&s, scratch_page, 8192);
        fill(&s, scratch_page, 8192);
        unmap(&s, scratch_page, 8192);
    }
}

static void run_fork(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 1024);

    while (!s.over) {
        emit(&s, (struct event){.kind = EVENT_FORK, .process = 1});
        emit(&s, (struct event){.kind = EVENT_SWITCH, .process = 1});
        for (uint64_t i = 0; i < 1024 && !s.over; i++)
            touch(&s, heap_page + i, i < 256, 12, 0);
        emit(&s, (struct event){.kind = EVENT_EXIT}); /* goes on with the parent */
        for (uint64_t i = 0; i < 1024 && !s.over; i++)
            touch(&s, heap_page + i, true, 12, 0);
    }
}

static void run_switch(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 256);

    for (unsigned p = 1; p < 8; p++) {
        emit(&s, (struct event){.kind = EVENT_SWITCH, .process = p});
        map(&s, heap_page, 256);
        fill(&s, heap_page, 256);
    }
    for (unsigned n = 0; !s.over; n++) {
        emit(&s, (struct event){.kind = EVENT_SWITCH, .process = n % 8});
        for (unsigned i = 0; i < 32 && !s.over; i++)
            touch(&s, heap_page + next(&s, 256), false, 25, 0);
    }
}

static void run_phases(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, 8192);

    while (!s.over) {
        for (unsigned n = 0; n < 100000 && !s.over; n++)
            touch(&s, heap_page + next(&s, 8192), false, 25, 0);
        unmap(&s, heap_page + 2048, 1024);
        map(&s, heap_page + 2048, 1024);
        fill(&s, heap_page + 2048, 1024);
    }
}

/* --- after the paper's workloads ----------------------------------------------------------------
 */

/* Breadth-first search over a graph in compressed rows: a queue and a run of edges in order, a
 * random vertex for each edge. The frontier's buffers come and go with each level of the search. */
static void run_graph500(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, MIB(512));

    for (uint64_t n = 0; !s.over; n++) {
        uint64_t row = heap_page + next(&s, MIB(384));
        touch(&s, row, false, WORK, 3);
        for (unsigned e = 0; e < 8 && !s.over; e++)
            touch(&s, heap_page + MIB(384) + next(&s, MIB(128)), e == 0, WORK, 0);
        if (n % 40000 == 39999)
            buffer(&s, 0, MIB(2));
    }
}

/* Gets and sets of items of a popular few, by a hash table; a slab of 1 MiB is taken and an old one
 * given back now and then, as memory is rebalanced between classes. */
static void run_memcached(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, MIB(512));

    map(&s, scratch_page, 8);
    for (uint64_t n = 0; !s.over; n++) {
        touch(&s, heap_page + next(&s, MIB(64)), false, 120, 1);                   /* bucket */
        touch(&s, heap_page + MIB(64) + skewed(&s, MIB(448)), n % 10 == 0, 60, 7); /* item */
        touch(&s, scratch_page + n % 8, true, 200, 31); /* socket buffer */
        if (n % 8000 == 7999) {
            uint64_t slab = heap_page + MIB(64) + next(&s, 448) * MIB(1);
            unmap(&s, slab, MIB(1));
            map(&s, slab, MIB(1));
            fill(&s, slab, MIB(1));
        }
    }
}

/* Random pairs of elements of a netlist are compared and swapped; nothing is mapped after the
 * start. */
static void run_canneal(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, MIB(384));

    for (uint64_t n = 0; !s.over; n++) {
        uint64_t a = heap_page + next(&s, MIB(384)), b = heap_page + next(&s, MIB(384));
        touch(&s, a, false, 40, 2);
        touch(&s, b, false, 40, 2);
        for (unsigned i = 0; i < 4 && !s.over; i++)
            touch(&s, heap_page + next(&s, MIB(384)), false, 30, 0);
        touch(&s, a, n % 3 == 0, 20, 0);
        if (n % 60000 == 59999)
            buffer(&s, 0, 64);
    }
}

/* A pipeline: buffers of chunks are allocated, filled, hashed and given back without end, beside a
 * hash table that stays. */
static void run_dedup(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, MIB(256));

    for (uint64_t n = 0; !s.over; n++) {
        if (n % 40 == 0)
            buffer(&s, n / 40 % 16, 64);
        for (unsigned i = 0; i < 12 && !s.over; i++)
            touch(&s, heap_page + next(&s, MIB(256)), i == 0, 60, 3);
    }
}

/* Functions are compiled one after another: each grows a pool and gives it back, and reads what was
 * parsed before, near ones more often. */
static void run_gcc(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, MIB(192));

    for (uint64_t n = 0; !s.over; n++) {
        uint64_t near = next(&s, MIB(160));
        for (unsigned i = 0; i < 2000 && !s.over; i++) {
            bool far = i % 4 == 0;
            uint64_t page = far ? next(&s, MIB(192)) : near + next(&s, MIB(4));
            touch(&s, heap_page + page, i % 8 == 0, 50, 5);
        }
        buffer(&s, n % 4, 256);
    }
}

/* Pointers are followed over arcs and nodes of a network; nothing changes after the start. */
static void run_mcf(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, MIB(384));

    for (uint64_t n = 0; !s.over; n++) {
        touch(&s, heap_page + n / 16 % MIB(256), false, 30, 1);
        touch(&s, heap_page + MIB(256) + next(&s, MIB(128)), n % 6 == 0, 30, 1);
        if (n % 100000 == 99999)
            buffer(&s, 0, 256);
    }
}

/* Read, change, write at random. */
static void run_gups(struct sink *sink, uint64_t accesses)
{
    struct state s = begin(sink, accesses, MIB(512));

    while (!s.over)
        touch(&s, heap_page + next(&s, MIB(512)), true, WORK, 1);
}

const struct generator generators[] = {
    {"touch", "random reads of a large static mapping", false, run_touch},
    {"churn", "a page mapped, touched and unmapped without end", false, run_churn},
    {"mixed", "static memory beside a region that changes", false, run_mixed},
    {"batch", "a run of pages re-protected now and then", false, run_batch},
    {"demand", "a large area faulted in and given back", false, run_demand},
    {"fork", "copy on write, the child dropped", false, run_fork},
    {"switch", "eight address spaces in turn", false, run_switch},
    {"phases", "stable for long, then a part mapped anew", false, run_phases},
    {"graph500-like", "breadth-first search, 512 MiB", true, run_graph500},
    {"memcached-like", "a cache of popular items, 512 MiB, slabs that move", true, run_memcached},
    {"canneal-like", "random swaps in a netlist, 384 MiB", true, run_canneal},
    {"dedup-like", "buffers that come and go beside a table of 256 MiB", true, run_dedup},
    {"gcc-like", "pools that grow and go beside 192 MiB", true, run_gcc},
    {"mcf-like", "pointers followed through 384 MiB", true, run_mcf},
    {"gups-like", "random updates of 512 MiB", true, run_gups},
};
const unsigned generator_count = sizeof(generators) / sizeof(generators[0]);

const struct generator *generator_find(const char *name)
{
    for (unsigned i = 0; i < generator_count; i++) {
        if (strcmp(generators[i].name, name) == 0)
            return &generators[i];
    }
    return NULL;
}
