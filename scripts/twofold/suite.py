# SPDX-License-Identifier: BSD-2-Clause
"""Boots with many VMs of bundled guests: what scripts/run and scripts/bench share."""

import dataclasses
import json
import math
import re
import sys
import time

from twofold import console, image, machine

BENCHMARKS = ["exits", "touch", "churn", "mixed", "batch", "demand", "fork", "switch", "scan", "phases", "huge",
              "tables"]
CHECKS = ["checks"]
FIRMWARE_SECONDS = 120  # to the hypervisor's first line, also on a slow host

# The firmware's word that what it started has come back: the loader has refused, and said why.
BACK_IN_FIRMWARE = b"BdsDxe: failed to start"


def say(text):
    print(text, file=sys.stderr, flush=True)


def is_ours(line):
    """Whether a line of text is Twofold's, and not the firmware's."""
    return line.kind != "text" or line.raw.startswith((b"twofold:", b"Twofold:"))


class Progress:
    """Shows on stderr that something is going on: a counter on a terminal, else a line now and then."""

    EVERY_SECONDS = 15

    def __init__(self, name):
        self.start = time.monotonic()
        self.name = name
        self.state = "the firmware boots"
        self.terminal = sys.stderr.isatty()
        self.last = self.start

    def idle(self):
        now = time.monotonic()
        if self.terminal and now - self.last >= 0.5:
            self.last = now
            print(f"\r[{now - self.start:4.0f} s, {self.name}] {self.state}\033[K", end="", file=sys.stderr, flush=True)
        elif not self.terminal and now - self.last >= self.EVERY_SECONDS:
            self.last = now
            print(f"[{now - self.start:4.0f} s, {self.name}] {self.state}", file=sys.stderr, flush=True)

    def stop(self):
        """Show nothing more: somebody else writes on the terminal now."""
        self.clear()
        self.terminal = False
        self.last = math.inf

    def clear(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def note(self, line):
        """What the run is doing, from the hypervisor's own lines."""
        match = re.match(r"twofold: ([\w.-]+): (\S+\.elf|\S+) .* MiB,", line.text())
        if match:
            self.state = f"running {match[1]}"


@dataclasses.dataclass
class Result:
    """What a boot left: records as the console had them."""

    records: list = dataclasses.field(default_factory=list)
    trace: list = dataclasses.field(default_factory=list)
    ends: dict = dataclasses.field(default_factory=dict)  # @vm records by name
    last: dict = None  # the @end record
    timed_out: bool = False

    def problems(self, vms):
        """What went wrong, as sentences."""
        found = [f"{e['name']}: {e['end']}, status {e['status']} {e['why']}" for e in self.ends.values()
                 if not (e["end"] == "exit" and e["status"] == 1)]
        found += [f"{r['vm']}: record {r['bench']} is not ok" for r in self.records if not r["ok"]]
        if self.timed_out:
            found.append("the time limit passed")
        elif self.last is None:
            found.append("the machine ended without the hypervisor's last record")
        elif self.last["status"] != 0:
            found.append(f"the hypervisor ended with status {self.last['status']}")
        missing = [name for name, _ in vms if name not in self.ends]
        if missing:
            found.append(f"{len(missing)} guests did not run, the first is {missing[0]}")
        return found


def boot(chosen, vms, folder, log, limit, progress, cpu_model=None, on_text=lambda line: None, files=None,
         extra=""):
    """Boot the machine `chosen` with `vms` (as for image.ini) and collect what they leave.

    `log` (a file) takes all that the console had; `on_text` each line of text that is Twofold's. `limit`: seconds.
    `files`: what the VMs need; by default their images, which are bundled guests. `extra`: more lines of [twofold].
    """
    if files is None:
        files = [image.GUESTS / name for name in sorted({dict(keys)["image"] for _, keys in vms})]
    # At its usual addresses: moving the hypervisor takes instructions before the clock is measured.
    more = "\n".join(["kaslr = off", *([extra] if extra else [])])
    disk = image.make(folder, image.ini(machine.at_end_setting(chosen), vms, more), files)
    run = machine.Run(chosen, disk, folder, FIRMWARE_SECONDS + limit, cpu_model)
    result = Result()
    begun = False
    for raw in run.lines(progress.idle):
        log.write(raw + b"\n")
        line = console.parse(raw)
        if raw.startswith(BACK_IN_FIRMWARE):
            run.end()
            break
        begun = begun or is_ours(line)
        progress.note(line)
        if line.kind == "record":
            keep(result, line)
        elif begun:
            progress.clear()
            on_text(line)
    progress.clear()
    result.timed_out = run.timed_out
    return result


def keep(result, line):
    if line.name == "bench":
        result.records.append(line.value)
    elif line.name == "trace":
        result.trace.append(line.value)
    elif line.name == "vm":
        result.ends[line.value["name"]] = line.value
    elif line.name == "end":
        result.last = line.value


def write_lines(path, records):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in records)
