/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traces. The rings of hv/paging/trace.c: events of any kinds and times are kept and read by a
 * cursor, and the reader must give what a model gives that never forgets: of each ring the last
 * `size` events, in order, and of both the one with the smaller time first. The file format of
 * tests/walksim/trace.c: what can be read must be the same when it is written and read again.
 *
 *   input: 0, size 1, operations | 1, a trace file without its magic
 */
#include "hv/paging/trace.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/walksim/trace.h"

#define SIZE_MAX_EVENTS 64u
#define EVENTS_MAX      4096u

/* --- the rings -------------------------------------------------------------------------------- */

struct kept {
    struct trace_event event;
    uint64_t va;
};

static struct kept model[TRACE_RINGS][EVENTS_MAX];
static uint64_t count[TRACE_RINGS];

static bool is_frequent(enum trace_kind kind)
{
    return kind == TRACE_SYNC || kind == TRACE_WRITE;
}

static void add(struct trace *t, struct fuzz_input *in, uint64_t *time)
{
    enum trace_kind kind = (enum trace_kind)fuzz_below(in, TRACE_KINDS);
    uint64_t value = fuzz_take(in, 2);
    unsigned ring = is_frequent(kind) ? TRACE_FREQUENT : TRACE_HANDLING;

    *time += value & 3;
    t->time = *time;
    if (count[ring] == EVENTS_MAX || (t->size == 0 && !is_frequent(kind)))
        return;
    if (is_frequent(kind))
        trace_add(t, kind, value, 7);
    else
        trace_add_handling(t, kind, value, 7)->va = value << 12;
    if (t->size == 0)
        return;
    model[ring][count[ring]++] =
        (struct kept){{.time = *time, .value = value, .kind = kind, .detail = 7},
                      is_frequent(kind) ? TRACE_NOWHERE : value << 12};
}

/* The model's next event for a cursor, or NULL. */
static const struct kept *model_next(uint32_t size, uint64_t next[TRACE_RINGS])
{
    const struct kept *at[TRACE_RINGS];

    for (unsigned i = 0; i < TRACE_RINGS; i++) {
        if (count[i] > size && next[i] < count[i] - size)
            next[i] = count[i] - size;
        at[i] = next[i] < count[i] ? &model[i][next[i]] : NULL;
    }
    const struct kept *frequent = at[TRACE_FREQUENT], *handling = at[TRACE_HANDLING];
    if (!frequent && !handling)
        return NULL;
    bool first = frequent && (!handling || frequent->event.time <= handling->event.time);
    next[first ? TRACE_FREQUENT : TRACE_HANDLING]++;
    return first ? frequent : handling;
}

static void read_one(const struct trace *t, struct trace_cursor *cursor, uint64_t next[TRACE_RINGS])
{
    struct trace_region region;
    const struct trace_event *e = trace_next(t, cursor, &region);
    const struct kept *want = model_next(t->size, next);

    MUST(!e == !want, "an event where there is none, or none where there is one");
    if (!e)
        return;
    MUST(memcmp(e, &want->event, sizeof(*e)) == 0 && region.va == want->va,
         "another event: %s, %llu", trace_kind_name((enum trace_kind)e->kind),
         (unsigned long long)e->value);
}

static void rings(struct fuzz_input *in)
{
    static uint64_t
        memory[SIZE_MAX_EVENTS *
               (TRACE_RINGS * sizeof(struct trace_event) + sizeof(struct trace_region)) /
               sizeof(uint64_t)];
    unsigned shift = fuzz_below(in, 8);
    uint32_t size = shift == 7 ? 0 : 1u << shift;
    struct trace_cursor cursor[2] = {0};
    uint64_t next[2][TRACE_RINGS] = {0}, time = 0;
    struct trace t;

    MUST(trace_bytes(size) <= sizeof(memory), "the test's memory");
    memset(memory, 0x5a, sizeof(memory));
    count[TRACE_HANDLING] = count[TRACE_FREQUENT] = 0;
    trace_create(&t, memory, size);
    while (in->left > 0) {
        unsigned op = fuzz_below(in, 8);
        if (op < 6)
            add(&t, in, &time);
        else
            read_one(&t, &cursor[op - 6], next[op - 6]);
    }
    for (unsigned i = 0; i < 2 * SIZE_MAX_EVENTS + 1; i++)
        read_one(&t, &cursor[0], next[0]);
}

/* --- the file --------------------------------------------------------------------------------- */

#define FILE_EVENTS     512u
#define EVENT_BYTES_MAX 40u
#define MAGIC_BYTES     8u

static unsigned read_events(FILE *file, struct event events[FILE_EVENTS])
{
    struct trace_reader r;
    const char *why = NULL;
    unsigned n = 0;

    MUST(trace_reader_open(&r, file, &why), "the magic is there: %s", why);
    while (n < FILE_EVENTS) {
        why = NULL;
        if (!trace_reader_next(&r, &events[n], &why)) {
            MUST(why, "a reason");
            break;
        }
        if (events[n].kind == EVENT_END)
            break;
        MUST(events[n].kind < EVENT_KINDS && events[n].access <= ACCESS_FETCH &&
                 events[n].address < 1ull << 48 && events[n].process < 1u << 16,
             "limits of an event");
        n++;
    }
    return n;
}

static bool same_event(const struct event *a, const struct event *b)
{
    return a->kind == b->kind && a->access == b->access && a->address == b->address &&
           a->pages == b->pages && a->instructions == b->instructions && a->repeats == b->repeats &&
           a->writable == b->writable && a->process == b->process;
}

static void file_format(struct fuzz_input *in)
{
    static struct event events[FILE_EVENTS], again[FILE_EVENTS];
    static char bytes[FILE_EVENTS * EVENT_BYTES_MAX];
    struct trace_writer w;
    size_t left = in->left < sizeof(bytes) - MAGIC_BYTES ? in->left : sizeof(bytes) - MAGIC_BYTES;

    memcpy(bytes, TRACE_MAGIC, MAGIC_BYTES);
    memcpy(bytes + MAGIC_BYTES, in->bytes, left);
    FILE *file = fmemopen(bytes, MAGIC_BYTES + left, "r");
    if (!file)
        abort();
    unsigned n = read_events(file, events);
    fclose(file);
    file = fmemopen(bytes, sizeof(bytes), "w+");
    if (!file || !trace_writer_open(&w, file))
        abort();
    for (unsigned i = 0; i < n; i++)
        MUST(trace_write(&w, &events[i]), "there is room");
    rewind(file);
    unsigned m = read_events(file, again);
    fclose(file);
    MUST(m >= n, "%u events of %u", m, n);
    for (unsigned i = 0; i < n; i++)
        MUST(same_event(&events[i], &again[i]), "event %u", i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};

    if (fuzz_below(&in, 2) == 0)
        rings(&in);
    else
        file_format(&in);
    return 0;
}
