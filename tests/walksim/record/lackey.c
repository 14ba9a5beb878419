/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes a trace of what valgrind prints about a program: lackey's --trace-mem=yes lines and, in the
 * same stream and so in order, --trace-syscalls=yes lines for what maps memory.
 *
 *   walksim-lackey INSTRUCTIONS < valgrind's output > trace      ends after so many
 *
 * Prints on stderr, as JSON, how much there was. Accesses to one page in a row are folded.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/walksim/trace.h"

#define PAGE      4096ull
#define PROT_WR   2u
#define MAP_LIMIT (1ull << 47)

struct recorder {
    struct trace_writer out;
    struct event pending; /* an access that may be folded with the next */
    uint64_t instructions, since, accesses, calls, folded;
    uint64_t brk;
    bool failed;
};

static void flush(struct recorder *r)
{
    if (r->pending.kind == EVENT_ACCESS)
        r->failed |= !trace_write(&r->out, &r->pending);
    r->accesses += r->pending.kind == EVENT_ACCESS;
    r->pending.kind = EVENT_END;
}

static void access_page(struct recorder *r, uint64_t address, bool write)
{
    uint64_t page = address & ~(PAGE - 1);

    if (page >= MAP_LIMIT)
        return;
    if (r->pending.kind == EVENT_ACCESS && r->pending.address == page &&
        (!write || r->pending.access == ACCESS_WRITE)) {
        r->pending.repeats++;
        r->folded++;
        return;
    }
    flush(r);
    r->pending = (struct event){.kind = EVENT_ACCESS,
                                .access = write ? ACCESS_WRITE : ACCESS_READ,
                                .address = page,
                                .instructions = r->since};
    r->since = 0;
}

static void area_event(struct recorder *r, enum event_kind kind, uint64_t from, uint64_t bytes,
                       bool writable)
{
    uint64_t first = from & ~(PAGE - 1), end = (from + bytes + PAGE - 1) & ~(PAGE - 1);
    struct event e = {
        .kind = kind, .address = first, .pages = (end - first) / PAGE, .writable = writable};

    if (end <= first || end > MAP_LIMIT)
        return;
    flush(r);
    r->calls++;
    r->failed |= !trace_write(&r->out, &e);
}

/* The numbers between the parentheses, and the result; false when the call failed or is another. */
static bool arguments(const char *line, const char *name, uint64_t *args, unsigned count,
                      uint64_t *result)
{
    const char *at = strstr(line, name);
    const char *success = at ? strstr(at, "Success(") : NULL;

    if (!success || !(at = strchr(at, '(')))
        return false;
    for (unsigned i = 0; i < count; i++) {
        char *end;
        args[i] = strtoull(at + 1 + strspn(at + 1, " "), &end, 0);
        at = strchr(end, i + 1 < count ? ',' : ')');
        if (!at)
            return false;
    }
    *result = strtoull(success + strlen("Success("), NULL, 0);
    return true;
}

static void system_call(struct recorder *r, const char *line)
{
    uint64_t a[4], result;

    if (arguments(line, "sys_mmap", a, 4, &result)) {
        area_event(r, EVENT_MMAP, result, a[1], (a[2] & PROT_WR) != 0);
    } else if (arguments(line, "sys_munmap", a, 2, &result)) {
        area_event(r, EVENT_MUNMAP, a[0], a[1], false);
    } else if (arguments(line, "sys_mprotect", a, 3, &result)) {
        area_event(r, EVENT_MPROTECT, a[0], a[1], (a[2] & PROT_WR) != 0);
    } else if (arguments(line, "sys_mremap", a, 3, &result)) {
        area_event(r, EVENT_MUNMAP, a[0], a[1], false);
        area_event(r, EVENT_MMAP, result, a[2], true);
    } else if (arguments(line, "sys_brk", a, 1, &result)) {
        if (r->brk && result > r->brk)
            area_event(r, EVENT_MMAP, r->brk, result - r->brk, true);
        else if (r->brk && result < r->brk)
            area_event(r, EVENT_MUNMAP, result, r->brk - result, false);
        r->brk = (result + PAGE - 1) & ~(PAGE - 1);
    }
}

static void take_line(struct recorder *r, const char *line)
{
    if (line[0] == 'I' && line[1] == ' ') {
        r->instructions++;
        r->since++;
    } else if (line[0] == ' ' && (line[1] == 'L' || line[1] == 'S' || line[1] == 'M') &&
               line[2] == ' ') {
        access_page(r, strtoull(line + 3, NULL, 16), line[1] != 'L');
    } else if (strncmp(line, "SYSCALL[", 8) == 0) {
        system_call(r, line);
    }
}

int main(int argc, char **argv)
{
    static struct recorder r;
    uint64_t most = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
    char line[512];

    if (most == 0 || !trace_writer_open(&r.out, stdout)) {
        fprintf(stderr, "usage: walksim-lackey INSTRUCTIONS <valgrind's output >trace\n");
        return 2;
    }
    while (r.instructions < most && fgets(line, sizeof(line), stdin))
        take_line(&r, line);
    flush(&r);
    if (fflush(stdout) != 0 || r.failed || r.accesses == 0) {
        fprintf(stderr, "walksim-lackey: %s\n",
                r.accesses ? "the trace cannot be written" : "no accesses in the input");
        return 1;
    }
    fprintf(stderr,
            "{\"instructions\": %" PRIu64 ", \"accesses\": %" PRIu64 ", \"folded\": %" PRIu64
            ", \"calls\": %" PRIu64 "}\n",
            r.instructions, r.accesses, r.folded, r.calls);
    return 0;
}
