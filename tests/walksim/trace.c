/* SPDX-License-Identifier: BSD-2-Clause */
/* See trace.h. */
#include "tests/walksim/trace.h"

#include <string.h>

#define PAGE_BITS   12
#define ACCESS_BITS 2
#define PAGES_MAX   (1ull << 36) /* of the lower half of 48 bits */

static bool put_number(FILE *file, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) {
        if (putc((int)(v & 0x7f) | 0x80, file) == EOF)
            return false;
    }
    return putc((int)v, file) != EOF;
}

static bool get_number(FILE *file, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        int c = getc(file);
        if (c == EOF)
            return false;
        *v |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            return true;
    }
    return false;
}

static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

bool trace_writer_open(struct trace_writer *w, FILE *file)
{
    *w = (struct trace_writer){.file = file};
    return fwrite(TRACE_MAGIC, 1, 8, file) == 8;
}

bool trace_write(struct trace_writer *w, const struct event *e)
{
    uint64_t page = e->address >> PAGE_BITS;
    bool good = putc((int)e->kind, w->file) != EOF;

    switch (e->kind) {
    case EVENT_ACCESS:
        good &= put_number(w->file, zigzag((int64_t)(page - w->page))) &&
                put_number(w->file, e->instructions) &&
                put_number(w->file, e->repeats << ACCESS_BITS | (uint64_t)e->access);
        w->page = page;
        break;
    case EVENT_MMAP:
    case EVENT_MPROTECT:
        good &= put_number(w->file, page) && put_number(w->file, e->pages) &&
                put_number(w->file, e->writable);
        break;
    case EVENT_MUNMAP:
        good &= put_number(w->file, page) && put_number(w->file, e->pages);
        break;
    case EVENT_FORK:
    case EVENT_SWITCH:
        good &= put_number(w->file, e->process);
        break;
    default:
        break;
    }
    return good;
}

bool trace_reader_open(struct trace_reader *r, FILE *file, const char **why)
{
    char magic[8];

    *r = (struct trace_reader){.file = file};
    if (fread(magic, 1, 8, file) == 8 && memcmp(magic, TRACE_MAGIC, 8) == 0)
        return true;
    *why = "not a trace: it does not begin with " TRACE_MAGIC;
    return false;
}

static bool get_range(FILE *file, struct event *e)
{
    uint64_t page;

    if (!get_number(file, &page) || !get_number(file, &e->pages))
        return false;
    e->address = page << PAGE_BITS;
    return page < PAGES_MAX && e->pages > 0 && e->pages <= PAGES_MAX - page;
}

bool trace_reader_next(void *reader, struct event *e, const char **why)
{
    struct trace_reader *r = reader;
    int kind = getc(r->file);
    uint64_t a, b, c;
    bool good = true;

    *e = (struct event){.kind = kind == EOF ? EVENT_END : (enum event_kind)kind};
    switch (kind) {
    case EOF:
    case EVENT_END:
    case EVENT_EXIT:
        break;
    case EVENT_ACCESS:
        good = get_number(r->file, &a) && get_number(r->file, &b) && get_number(r->file, &c);
        if (!good)
            break;
        r->page += (uint64_t)unzigzag(a);
        e->address = r->page << PAGE_BITS;
        e->instructions = b;
        e->access = (enum access_kind)(c & 3);
        e->repeats = c >> ACCESS_BITS;
        good = r->page < PAGES_MAX && (c & 3) <= ACCESS_FETCH;
        break;
    case EVENT_MMAP:
    case EVENT_MPROTECT:
        good = get_range(r->file, e) && get_number(r->file, &a) && a <= 1;
        e->writable = good && a == 1;
        break;
    case EVENT_MUNMAP:
        good = get_range(r->file, e);
        break;
    case EVENT_FORK:
    case EVENT_SWITCH:
        good = get_number(r->file, &a) && a < 1u << 16;
        e->process = (unsigned)a;
        break;
    default:
        good = false;
        break;
    }
    if (!good)
        *why = "the trace is cut off, or not a trace: an event that cannot be";
    return good;
}
