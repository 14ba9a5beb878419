/* SPDX-License-Identifier: BSD-2-Clause */
/* See trace.h. */
#include "hv/paging/trace.h"

const char *trace_kind_name(enum trace_kind kind)
{
    static const char *const names[TRACE_KINDS] = {
        [TRACE_PROMOTE] = "promote", [TRACE_DEMOTE] = "demote", [TRACE_EVICT] = "evict",
        [TRACE_ROOT] = "root",       [TRACE_SYNC] = "sync",     [TRACE_WRITE] = "write",
        [TRACE_FILL] = "fill",       [TRACE_UNSYNC] = "unsync", [TRACE_RESYNC] = "resync",
    };

    return kind < TRACE_KINDS ? names[kind] : "?";
}
