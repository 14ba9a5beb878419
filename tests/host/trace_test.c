/* SPDX-License-Identifier: BSD-2-Clause */
/* The trace's rings: what is kept, in which order it is read, what pushes what out. */
#include "hv/paging/trace.h"
#include "tests/host/test.h"

#define SIZE 8u

static uint64_t
    memory[SIZE * (TRACE_RINGS * sizeof(struct trace_event) + sizeof(struct trace_region)) / 8];
static struct trace trace;

static void add(enum trace_kind kind, uint64_t time, uint64_t value)
{
    trace.time = time;
    if (kind == TRACE_SYNC || kind == TRACE_WRITE)
        trace_add(&trace, kind, value, 0);
    else if (trace.size > 0)
        trace_add_handling(&trace, kind, value, 0)->va = value << 21;
}

static const struct trace_event *next(struct trace_cursor *cursor)
{
    return trace_next(&trace, cursor, NULL);
}

/* Of one time, the store comes before the demotion that it led to. */
static void events_are_read_by_time(void)
{
    static const struct {
        enum trace_kind kind;
        uint64_t time, value;
    } in[] = {{TRACE_FILL, 1, 3},  {TRACE_SYNC, 2, 4}, {TRACE_DEMOTE, 3, 6},
              {TRACE_WRITE, 3, 5}, {TRACE_ROOT, 4, 7}, {TRACE_SYNC, 5, 8}};
    struct trace_cursor cursor = {0};
    struct trace_region region;

    trace_create(&trace, memory, SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(in); i++)
        add(in[i].kind, in[i].time, in[i].value);
    for (uint64_t value = 3; value <= 8; value++) {
        const struct trace_event *e = trace_next(&trace, &cursor, &region);
        CHECK(e && e->value == value, "%lu", (unsigned long)value);
        bool frequent = e && (e->kind == TRACE_SYNC || e->kind == TRACE_WRITE);
        CHECK(region.va == (frequent ? TRACE_NOWHERE : value << 21), "the region of %lu",
              (unsigned long)value);
    }
    CHECK(!next(&cursor), "one too many");
    add(TRACE_PROMOTE, 6, 99);
    const struct trace_event *later = next(&cursor);
    CHECK(later && later->value == 99, "a later one is not read");
}

static void frequent_events_push_no_others_out(void)
{
    struct trace_cursor cursor = {0};
    const struct trace_event *e;
    unsigned handling = 0, frequent = 0;

    trace_create(&trace, memory, SIZE);
    add(TRACE_DEMOTE, 1, 1);
    for (unsigned i = 0; i < 100; i++)
        add(i % 2 ? TRACE_SYNC : TRACE_WRITE, 2, i);
    while ((e = next(&cursor)) != NULL) {
        handling += e->kind == TRACE_DEMOTE;
        frequent += e->kind != TRACE_DEMOTE;
        CHECK(e->kind == TRACE_DEMOTE || e->value >= 100 - SIZE, "%lu is kept",
              (unsigned long)e->value);
    }
    CHECK(handling == 1 && frequent == SIZE, "%u and %u are kept", handling, frequent);
}

static void a_slow_reader_passes_over_what_went(void)
{
    struct trace_cursor cursor = {0};

    trace_create(&trace, memory, SIZE);
    add(TRACE_FILL, 0, 0);
    CHECK(next(&cursor) != NULL, "the first");
    for (unsigned i = 1; i <= 20; i++)
        add(TRACE_FILL, i, i);
    const struct trace_event *e = next(&cursor);
    CHECK(e && e->value == 20 - SIZE + 1, "it goes on at %lu", e ? (unsigned long)e->value : 0);
}

static void without_room_nothing_is_kept(void)
{
    struct trace_cursor cursor = {0};

    trace = (struct trace){0};
    add(TRACE_FILL, 1, 1);
    add(TRACE_SYNC, 1, 1);
    CHECK(!next(&cursor), "an event from nowhere");
}

int main(void)
{
    RUN(events_are_read_by_time);
    RUN(frequent_events_push_no_others_out);
    RUN(a_slow_reader_passes_over_what_went);
    RUN(without_room_nothing_is_kept);
    return test_status();
}
