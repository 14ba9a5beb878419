# SPDX-License-Identifier: BSD-2-Clause
"""The map of regions over time, from @trace events (docs/output.md).

A row is what one table of level 1 translates: 2 MiB. A span says how it was handled from one time to another:

  shadow  a node stands for the table          unsync  shadow-handled, but the table may be written meanwhile
  nested  the guest's own table is walked      root    the whole address space is nested
  unused  no walk has reached it, as far as the trace tells
"""

from dataclasses import dataclass, field

REGION = 1 << 21
STATES = ("unused", "shadow", "nested", "unsync", "root")
ROOT_STATES = ("nested", "compound", "shadow")
ADDRESS_BITS = 48
# What an event makes of the table that it names.
AFTER = {"fill": "shadow", "promote": "shadow", "demote": "nested", "evict": "nested", "unsync": "unsync",
         "resync": "shadow"}


@dataclass
class Row:
    va: int
    state: str = "unused"
    since: int = 0
    spans: list = field(default_factory=list)

    def change(self, time, state):
        if state == self.state:
            return
        if time > self.since:
            self.spans.append((self.since, time, self.state))
        self.since, self.state = time, state


def _span_of(level):
    return 1 << (12 + 9 * level)


def _of_root(events, root):
    return [e for e in events if e.get("va") is not None and e.get("root") == root]


def main_root(events):
    """The root that most events are of, or None; and how many others there are."""
    counts = {}
    for e in events:
        if e.get("va") is not None:
            counts[e["root"]] = counts.get(e["root"], 0) + 1
    if not counts:
        return None, 0
    return max(counts, key=lambda root: (counts[root], -root)), len(counts) - 1


def _apply(rows, e, lane):
    if e["event"] == "root":
        state = ROOT_STATES[e["detail"]]
        was = lane.state
        lane.change(e["time"], state)
        for row in rows.values():
            if state == "nested":
                row.change(e["time"], "root")
            elif was == "nested":  # its nodes were given up: what it meets is found out anew
                row.change(e["time"], "unused")
        return
    state = AFTER.get(e["event"])
    if state is None:
        return
    if e["level"] == 1:
        rows[e["va"]].change(e["time"], state)
    elif e["event"] != "fill":  # of a table above: what it holds goes with it, or is found out anew
        for va, row in rows.items():
            if e["va"] <= va < e["va"] + _span_of(e["level"]):
                row.change(e["time"], state if state == "nested" else "unused")


def build(events):
    """The map of one VM's events, as the page wants it, or None where they tell of no region."""
    root, others = main_root(events)
    own = _of_root(events, root)
    rows = {va: Row(va) for va in sorted({e["va"] for e in own if e["level"] == 1})}
    if not rows:
        return None
    end = max(e["time"] for e in events)
    lane = Row(0, state="nested")
    for row in rows.values():
        row.state = "root"
    for e in sorted(own, key=lambda e: e["time"]):
        _apply(rows, e, lane)
    for row in (*rows.values(), lane):
        row.change(end, "end")
    return {
        "end": end,
        "other_roots": others,
        "root": lane.spans,
        "rows": [{"va": f"{row.va:#014x}", "spans": row.spans} for row in rows.values()],
        "events": sum(e["event"] in AFTER or e["event"] == "root" for e in own),
    }


def complete(events):
    """Whether the trace begins before anything was handled otherwise than nested: else the map's begin is not known."""
    first = next((e for e in events if e.get("va") is not None), None)
    return first is not None and first["event"] in ("root", "fill")


def maps(events):
    """A map for each VM of which there are any, in the order of the file."""
    by_vm = {}
    for e in events:
        by_vm.setdefault(e["vm"], []).append(e)
    found = []
    for vm, own in by_vm.items():
        built = build(own)
        if built:
            found.append({"vm": vm, "complete": complete(own), **built})
    return found
