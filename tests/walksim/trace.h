/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traces of what programs do with memory, and their file format.
 *
 * A file is the 8 bytes of TRACE_MAGIC, then events: one byte of kind, then its numbers, each in
 * LEB128 (7 bits a byte, the lowest first, bit 7 set but in the last):
 *
 *   ACCESS    address as a zigzag difference to the last access's, in pages; instructions since the
 * last event; bits 0-1: read, write or fetch; from bit 2: how many more accesses to the page follow
 * at once MMAP      start page, pages, bit 0: writable MUNMAP    start page, pages MPROTECT  start
 * page, pages, bit 0: writable FORK      the child's process number EXIT      - SWITCH    the
 * process that runs from here on; the first is 0
 */
#ifndef WALKSIM_TRACE_H
#define WALKSIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TRACE_MAGIC "2FOLDTR1"

enum event_kind {
    EVENT_END,
    EVENT_ACCESS,
    EVENT_MMAP,
    EVENT_MUNMAP,
    EVENT_MPROTECT,
    EVENT_FORK,
    EVENT_EXIT,
    EVENT_SWITCH,
    EVENT_KINDS
};

enum access_kind { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

struct event {
    enum event_kind kind;
    enum access_kind access;
    uint64_t address; /* bytes, page aligned */
    uint64_t pages;
    uint64_t instructions; /* ACCESS: since the event before */
    uint64_t repeats;      /* ACCESS: further ones to the same page */
    bool writable;
    unsigned process; /* FORK: the child; SWITCH: who runs */
};

/* Where events come from: next() fills *e; EVENT_END at the end. False: *why says what is wrong. */
struct event_source {
    void *context;
    bool (*next)(void *context, struct event *e, const char **why);
};

struct trace_reader {
    FILE *file;
    uint64_t page; /* of the last access */
};

/* False when the file does not begin as a trace: *why. */
bool trace_reader_open(struct trace_reader *r, FILE *file, const char **why);
bool trace_reader_next(void *reader, struct event *e, const char **why);

struct trace_writer {
    FILE *file;
    uint64_t page;
};

bool trace_writer_open(struct trace_writer *w, FILE *file);
bool trace_write(struct trace_writer *w, const struct event *e);

#endif
