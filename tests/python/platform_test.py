#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The guests that test the virtual PC, on QEMU's own emulation: an oracle that knows nothing of Twofold. What passes
here and fails under Twofold is Twofold's fault. QEMU's clocks count instructions (-icount), so that a busy host
changes nothing. Prints "ok NAME" or "FAIL NAME: why" for each test."""

import pathlib
import re
import subprocess
import sys

GUESTS = pathlib.Path(__file__).resolve().parents[2] / "build/guests"
LIMIT = 120  # seconds, on a slow and busy machine; each takes a few

# One instruction is 64 ns of all of its clocks; nothing waits for the host's.
CLOCKS = ["-icount", "shift=6,sleep=off", "-rtc", "clock=vm"]
EXIT_0 = 1  # isa-debug-exit: value 0 gives status 2 * 0 + 1
EXIT_1 = 3
POWERED_OFF = 0

# Checks that QEMU's emulation has no answer to; with one processor those of several are left out, too.
NOT_ON_QEMU = {"apic-software-masks", "apic-global-disable", "apic-error-vector", "apic-timer-deadline", "x2apic-mode",
               "x2apic-registers", "x2apic-interrupts", "pic-spurious", "pit-gate", "smp-x2apic"}
OF_SEVERAL = {"ioapic-destination", "smp-start", "smp-init", "smp-fixed", "smp-broadcast", "smp-logical", "smp-nmi",
              "smp-lock", "smp-tlb", "smp-timers"}


def run(guest, args="", machine="q35", cpus=1):
    """What the guest printed, and QEMU's status: None if it did not end."""
    command = ["qemu-system-x86_64", "-machine", machine, "-accel", "tcg", "-smp", str(cpus), "-net", "none",
               "-display", "none", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *CLOCKS,
               "-kernel", str(GUESTS / f"{guest}.elf"), "-append", args]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace"), None
    return (done.stdout + done.stderr).decode(errors="replace"), done.returncode


# --- the tests: each gives nothing, or what is wrong --------------------------------------------------------------


def platform(machine, cpus):
    """Every check passes, but for those that cannot be made there."""
    def test():
        out, status = run("platform", f"cpus={cpus}", machine, cpus)
        if status != EXIT_0:
            return f"status {status}: " + "; ".join(re.findall(r"^FAIL .*", out, re.M) or out.splitlines()[-1:])
        left_out = set(re.findall(r"^skip ([\w-]+):", out, re.M)) - NOT_ON_QEMU - (OF_SEVERAL if cpus == 1 else set())
        passed = re.findall(r"^ok ", out, re.M)
        last = re.fullmatch(r"platform: (\d+) passed, 0 failed, \d+ skipped, .*", out.splitlines()[-1])
        if left_out or not last or int(last[1]) != len(passed):
            return f"left out: {left_out}; the last line: {out.splitlines()[-1]}"
        return None
    return test


def fails(guest, args, phrase, cpus=1):
    """The guest must find fault."""
    def test():
        out, status = run(guest, args, cpus=cpus)
        return None if status == EXIT_1 and phrase in out else f"status {status}: {out[-300:]}"
    return test


def resets(how):
    def test():
        out, status = run("reset", f"how={how}")
        good = status == EXIT_0 and f"about to reset by {how}" in out and out.count("back after a reset") == 1
        return None if good else f"status {status}: {out[-300:]}"
    return test


def powers_off(machine):
    def test():
        out, status = run("poweroff", machine=machine)
        good = status == POWERED_OFF and "about to power off" in out and "FAIL" not in out
        return None if good else f"status {status}: {out[-300:]}"
    return test


def idles(by):
    """50 wake-ups 2 ms apart are 100 ms: the first may come early, by a part of its period."""
    def test():
        out, status = run("idle", f"by={by} us=2000 times=50")
        found = re.search(rf"^idle by={by} woken=50 halts=50 ticks=0x[0-9a-f]+ ms=(\d+)$", out, re.M)
        return None if status == EXIT_0 and found and 97 <= int(found[1]) <= 103 else f"status {status}: {out[-300:]}"
    return test


TESTS = [
    *((f"the platform test kernel passes on QEMU: {machine}, {cpus} processors", platform(machine, cpus))
      for machine, cpus in (("q35", 1), ("q35", 2), ("q35", 4), ("pc", 2))),
    ("the platform test kernel misses a processor", fails("platform", "cpus=3 only=acpi", "FAIL cpus: ", cpus=2)),
    ("the platform test kernel refuses an unknown argument", fails("platform", "what=apic", "an argument is unknown")),
    *((f"a guest resets the machine by {how}", resets(how)) for how in ("cf9", "kbd", "triple")),
    *((f"a guest powers the machine off: {machine}", powers_off(machine)) for machine in ("q35", "pc")),
    *((f"a guest idles by its timer: {by}", idles(by)) for by in ("pit", "apic")),
]


def main():
    failed = 0
    for name, test in TESTS:
        why = test()
        print(f"ok {name}" if why is None else f"FAIL {name}: {why}", flush=True)
        failed += why is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
