# SPDX-License-Identifier: BSD-2-Clause
"""Measurements of KVM: which runs there are, what a boot of them prints, and the records that come of it.

Each guest runs twice in one boot. The first run, undisturbed, gives ticks; in the second a histogram on KVM's
tracepoint counts exits by reason, which adds instructions to each exit. docs/kvm.md has the fields.
"""

import json

from twofold import console

MEMORY_MIB = 128  # as scripts/run gives
SECONDS = 1200  # of a guest's run, on the machine's own clock

# Name, EPT, size of the host's pages behind the guest's RAM. Without EPT the host's pages matter only where guest
# pages are large, and then large ones are what helps KVM.
WAYS = {"ept-4k": (True, "4k"), "ept-2m": (True, "2m"), "shadow": (False, "2m")}


class Run:
    """One benchmark in one way."""

    def __init__(self, bench, way, args=""):
        self.bench = bench
        self.way = way
        self.args = args
        self.ept, self.page = WAYS[way]
        self.name = f"{bench}.{'kvm-ept' if self.ept else 'kvm-shadow'}.{self.page}"  # as tests/kvm/init.c makes it

    def line(self):
        """Of /runs, which tests/kvm/init.c reads."""
        return f"{int(self.ept)} {self.page} {MEMORY_MIB} {SECONDS} {self.bench}.elf {self.args}".rstrip()


class Boot:
    """What the console of one boot has told so far. `feed` gives the name of a run that is complete, else None."""

    def __init__(self):
        self.system = None
        self.ended = False
        self.records = {}  # by the run's name
        self.ends = {}
        self.state = "the firmware boots"

    def feed(self, raw):
        line = console.parse(raw)
        if line.kind != "record":
            text = line.text()
            if text.startswith("twofold-kvm: "):
                self.state = text.removeprefix("twofold-kvm: ")
            return None
        if line.name == "kvm":
            self.system = line.value
        elif line.name == "bench":
            self.records.setdefault(line.value["vm"], []).append(line.value)
        elif line.name == "vm":
            self.ends.setdefault(line.value["name"], []).append(line.value)
        elif line.name == "end":
            self.ended = True
        elif line.name == "done":
            return line.value["name"]
        return None

    def problems(self, name):
        """What went wrong in the run called `name`, as sentences."""
        ends = self.ends.get(name, [])
        found = [f"{name}: {e['end']}, status {e['status']} {e['why']}".rstrip() for e in ends
                 if not (e["end"] == "exit" and e["status"] == 1)]
        if len(ends) != 2:
            found.append(f"{name}: {len(ends)} of two runs have ended")
        found += [f"{name}: record {r['bench']} is not ok" for r in self.records.get(name, []) if not r["ok"]]
        return found


def merge(records):
    """One record for each benchmark and phase: ticks and KVM's counters of the run without the histogram, exits
    of the run with it. Raises ValueError when the two runs do not belong together."""
    plain = [r for r in records if not r["traced"]]
    traced = [r for r in records if r["traced"]]
    key = ("bench", "phase", "ops")
    if [[r[k] for k in key] for r in plain] != [[r[k] for k in key] for r in traced]:
        raise ValueError("the two runs have different records")
    merged = []
    for timed, counted in zip(plain, traced):
        record = {k: v for k, v in timed.items() if k != "traced"}
        record["exits"] = sum(counted["exits_by"].values())
        record["exits_by"] = counted["exits_by"]
        record["exits_untraced"] = timed["exits"]
        if record["exits"] != counted["exits"]:
            raise ValueError(f"{timed['bench']}: the histogram has {record['exits']} exits, KVM's own counter "
                             f"{counted['exits']}")
        merged.append(record)
    return merged


# --- the table ------------------------------------------------------------------------------------------------

HEADER = ("benchmark", "phase", "paging", "ept", "size", "ops", "ticks/op", "exits", "refs", "exits by reason")
TOP_REASONS = 3
ORDER = ["native", "nested", "shadow", "compound", "kvm-ept", "kvm-shadow"]


def _row(record):
    ops = record["ops"]
    by = sorted(record["exits_by"].items(), key=lambda item: -item[1]) if record.get("exits_by") else []
    reasons = "  ".join(f"{name} {count / ops:.2f}" for name, count in by[:TOP_REASONS] if count / ops >= 0.005)
    references = record.get("walk_refs")
    if references is None and record.get("walk_refs_derived") is not None:
        references = record["walk_refs_derived"]
    return (record["bench"], record["phase"], record["paging"], record["ept_page"] or "-",
            str(record.get("size") or "-"), str(ops),
            f"{record['ticks'] / ops:.2f}", f"{record['exits'] / ops:.2f}",
            "-" if references is None else f"{references:.2f}", reasons)


def table(ours, theirs):
    """Lines: KVM's records (`theirs`) with those of Twofold (`ours`, may be empty) beside them, for steady phases.
    `size` is what `make bench` adds to ours; KVM runs each benchmark with its own default."""
    benches = list(dict.fromkeys(r["bench"] for r in theirs))
    order = {name: i for i, name in enumerate(ORDER)}
    rows = [HEADER]
    for bench in benches:
        chosen = [r for r in ours + theirs if r["bench"] == bench and r["phase"] == "steady" and r["ops"]]
        chosen.sort(key=lambda r: (order.get(r["paging"], len(order)), r["ept_page"] or ""))
        rows += [_row(r) for r in chosen]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    right = {4, 5, 6, 7, 8}
    return ["  ".join(cell.rjust(w) if i in right else cell.ljust(w)
                      for i, (cell, w) in enumerate(zip(row, widths))).rstrip() for row in rows]


def read_records(path):
    """The records of a .jsonl file; none when it is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
