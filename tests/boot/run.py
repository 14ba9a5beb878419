#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The booted tests: each scenario is one boot of an image, with many checks of what its console shows.

Two boots run side by side. Every check prints "ok NAME" or "FAIL NAME: why". Arguments choose scenarios by a
part of their name; --long has those that take hours instead.
"""

import concurrent.futures
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests/boot"))

import attacks  # noqa: E402
import faults  # noqa: E402
import fuzz_guest  # noqa: E402
import real_guests  # noqa: E402
import scenarios  # noqa: E402
from twofold import console, image, machine  # noqa: E402

SIDE_BY_SIDE = 2
LOADER_FAILED = b"BdsDxe: failed to start"  # what the firmware then does is not ours
SHORT = real_guests.ALL + attacks.ALL + fuzz_guest.ALL + scenarios.ALL + faults.ALL
LONG = real_guests.LONG + attacks.LONG + fuzz_guest.LONG + scenarios.LONG


class Console:
    """What a boot printed, for the checks to look at."""

    def __init__(self):
        self.lines = []
        self.status = None
        self.timed_out = False

    def text(self):
        return "\n".join(line.text() for line in self.lines)

    def records(self, kind):
        return [line.value for line in self.lines if line.kind == "record" and line.name == kind]

    def vm(self, name):
        """The end record of a VM; {} if it has none."""
        return next((r for r in self.records("vm") if r["name"] == name), {})

    def guest_bytes(self, name):
        return b"".join(line.value for line in self.lines if line.kind == "guest" and line.name == name)


class Typist:
    """Types each answer when what it waits for has come: in what guests print, or in the hypervisor's lines."""

    def __init__(self, answers, send):
        self.left = list(answers)
        self.send = send
        self.text = b""

    def see(self, line):
        self.text += line.value if line.kind == "guest" else line.raw + b"\n"
        while self.left and self.left[0][0] in self.text:
            awaited, answer = self.left.pop(0)
            self.text = self.text.partition(awaited)[2]
            self.send(answer)


def boot(scenario):
    """Boot a scenario's image and collect its console."""
    seen = Console()
    with tempfile.TemporaryDirectory(prefix="twofold-test-") as folder:
        files = scenario.files(pathlib.Path(folder))
        settings = scenario.settings() if callable(scenario.settings) else scenario.settings
        if settings is not None and not isinstance(settings, str):
            settings = image.ini(machine.at_end_setting(scenario.machine), settings, scenario.globals)
        hypervisor = scenario.hypervisor(pathlib.Path(folder)) if scenario.hypervisor else None
        disk = image.make(folder, settings, files, hypervisor, scenario.loader)
        run = machine.Run(scenario.machine, disk, folder, scenario.limit, scenario.cpu_model, scenario.memory,
                          scenario.processors, interactive=bool(scenario.answers), devices=scenario.devices)
        typist = Typist(scenario.answers, run.send)
        for raw in run.lines():
            seen.lines.append(console.parse(raw))
            typist.see(seen.lines[-1])
            if LOADER_FAILED in raw:
                run.end()
        seen.status = run.status
        seen.timed_out = run.timed_out
    return seen


def run_scenario(scenario):
    """The scenario's name, the seconds that it took, its results: (name of the check, reason why it failed or None)."""
    start = time.monotonic()
    results = results_of(scenario)
    return scenario.name, round(time.monotonic() - start), results


def results_of(scenario):
    try:
        seen = boot(scenario)
        results = [(f"{scenario.name}: {name}", why) for name, why in scenario.check(seen)]
    except Exception as error:  # a broken runner is a failed test, not the end of the others
        return [(f"{scenario.name}: runs", f"{type(error).__name__}: {error}")]
    if any(why for _, why in results):
        log = ROOT / "out" / "tests"
        log.mkdir(parents=True, exist_ok=True)
        (log / f"{scenario.name}.log").write_text(seen.text() + "\n", encoding="utf-8")
    return results or [(f"{scenario.name}: runs", "it checked nothing")]


def main():
    words = sys.argv[1:]
    there = LONG if "--long" in words else SHORT
    names = [w for w in words if w != "--long"]
    chosen = [s for s in there if not names or any(n in s.name for n in names)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for scenario, seconds, results in pool.map(run_scenario, chosen):
            print(f"# {scenario}: {seconds} s", flush=True)
            for name, why in results:
                failed += why is not None
                print(f"ok {name}" if why is None else f"FAIL {name}: {why}", flush=True)
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
