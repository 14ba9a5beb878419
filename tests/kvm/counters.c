/* SPDX-License-Identifier: BSD-2-Clause */
/* See counters.h. */
#include "tests/kvm/counters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "arch/x86_64/vmcs.h"

static bool read_at(int fd, void *to, size_t bytes, off_t at)
{
    return pread(fd, to, bytes, at) == (ssize_t)bytes;
}

static bool fail(const char *why)
{
    fprintf(stderr, "KVM's statistics: %s\n", why);
    return false;
}

/* --- KVM's statistics ------------------------------------------------------------------------- */

static void keep(struct counters *counters, const struct kvm_stats_desc *desc, const char *name,
                 off_t data)
{
    uint32_t type = desc->flags & KVM_STATS_TYPE_MASK;

    if (desc->size != 1 || type > KVM_STATS_TYPE_PEAK)
        return;
    struct counter *c = &counters->counter[counters->count++];
    snprintf(c->name, sizeof(c->name), "%.*s", (int)COUNTER_NAME_MAX - 1, name);
    c->at = data + desc->offset;
    c->sums = type == KVM_STATS_TYPE_CUMULATIVE;
}

bool counters_open(struct counters *counters, int fd)
{
    struct kvm_stats_header header;

    *counters = (struct counters){.fd = fd};
    if (!read_at(fd, &header, sizeof(header), 0))
        return fail("the header cannot be read");
    if (header.num_desc > COUNTERS_MAX || header.name_size == 0 || header.name_size > 256)
        return fail("more of them than expected, or longer names");
    size_t bytes = sizeof(struct kvm_stats_desc) + header.name_size;
    union {
        struct kvm_stats_desc desc;
        char bytes[sizeof(struct kvm_stats_desc) + 256 + 1];
    } at;
    for (uint32_t i = 0; i < header.num_desc; i++) {
        memset(&at, 0, sizeof(at));
        if (!read_at(fd, &at, bytes, (off_t)(header.desc_offset + i * bytes)))
            return fail("a descriptor cannot be read");
        keep(counters, &at.desc, at.bytes + sizeof(struct kvm_stats_desc), header.data_offset);
    }
    return true;
}

bool counters_read(const struct counters *counters, uint64_t *value)
{
    for (unsigned i = 0; i < counters->count; i++) {
        if (!read_at(counters->fd, &value[i], sizeof(value[i]), counters->counter[i].at))
            return fail("a value cannot be read");
    }
    return true;
}

int counters_find(const struct counters *counters, const char *name)
{
    for (unsigned i = 0; i < counters->count; i++) {
        if (strcmp(counters->counter[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

/* --- exits by reason -------------------------------------------------------------------------- */

static bool parse_entry(const char *line, uint64_t *hits)
{
    unsigned reason;
    unsigned long long count;

    if (sscanf(line, "{ exit_reason: %u } hitcount: %llu", &reason, &count) != 2 ||
        reason >= REASONS_MAX)
        return false;
    hits[reason] += count;
    return true;
}

bool histogram_parse(const char *text, uint64_t hits[REASONS_MAX])
{
    unsigned long long dropped = 0;

    memset(hits, 0, REASONS_MAX * sizeof(*hits));
    while (*text) {
        size_t length = strcspn(text, "\n");
        char line[256];
        if (length >= sizeof(line))
            return false;
        memcpy(line, text, length);
        line[length] = '\0';
        if (line[0] == '{' && !parse_entry(line, hits))
            return false;
        if (sscanf(line, " Dropped: %llu", &dropped) == 1 && dropped > 0)
            return false;
        text += length + (text[length] == '\n');
    }
    return true;
}

const char *exit_reason_name(unsigned reason)
{
    /* Made by kvm.mk from the table in arch/x86_64/exit.c, so that the two cannot differ. */
    static const char *const name[] = {
#include "exit_names.inc"
    };

    return reason < sizeof(name) / sizeof(name[0]) ? name[reason] : NULL;
}
