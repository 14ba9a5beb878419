# SPDX-License-Identifier: BSD-2-Clause
"""Boots of real guests: Debian's Linux, and the Multiboot kernel that tests the virtual PC.

ALL is part of the booted tests; LONG are more combinations, for `make test-linux`.
"""

import itertools
import random
import re

from scenarios import GUESTS, Scenario, ended, ends_as, expect, has
from twofold import bare, systems, workloads

PAGINGS = ("nested", "shadow", "compound")
TIME_LIMIT = "200s"  # of the machine's time: on Bochs 50 million instructions each
DISK_MIB = 6
NOT_HASHED = "measure = off"  # a kernel of 53 MB takes Bochs 2,600 million instructions to hash, half a minute
CHECKS = ["cpus", "memory", "timer", "clock", "acpi", "serial", "console", "random", "disk", "fork", "smp", "hotplug", "log"]
QUICK = ["cpus", "timer", "clock", "acpi", "disk", "smp", "hotplug", "log"]

# Lines of the kernel at level warning or worse that tell of a wrong machine, in whatever words.
TROUBLE = re.compile(r"BUG:|Oops|WARNING: CPU|Call Trace|segfault|soft lockup|rcu: INFO|unstable|Fatal|Firmware Bug|"
                     r"ACPI (Error|Warning|BIOS)|nobody cared|timed out|I/O error|Kernel panic")


def disk_file(folder):
    """A disk of bytes that nobody wrote on purpose."""
    path = folder / "disk.img"
    path.write_bytes(random.Random(5).randbytes(DISK_MIB << 20))
    return path


def linux_vm(name, paging, cpus=1, checks=QUICK, *keys, options="", arguments=""):
    """A VM of the system 'test', with a disk that it may write. `options` are the kernel's, `arguments` the script's."""
    append = " ".join([systems.NO_CIPHER_TESTS, *options.split(), "--", f"cpus={cpus}", f"checks={','.join(checks)}", arguments])
    return name, [*systems.build("test").keys(append, pvh=True), ("memory", "192M"), ("paging", paging), ("cpus", cpus),
                  ("disk", "disk.img"), ("trace", "0"), ("time_limit", TIME_LIMIT), *keys]


def linux_files(folder):
    return [*systems.build("test").files(pvh=True), disk_file(folder)]


def guest_text(seen, vm):
    return seen.guest_bytes(vm).decode("utf-8", "replace")


def check_one(seen, vm, checks):
    """What one VM of the system 'test' must have printed, and how it must have ended."""
    text = guest_text(seen, vm)
    found = dict(re.findall(r"^result (\S+) (.*?)\r?$", text, re.M))
    results = [ends_as(seen, vm, "poweroff", 0)]
    results += [expect(f"{vm}: {name}", found.get(name) == "ok", found.get(name, "it has no result")) for name in checks]
    results.append(record_of_checks(seen, vm, checks))
    trouble = [line for line in text.splitlines() if TROUBLE.search(line)]
    results.append(expect(f"{vm}: the kernel complains of nothing", not trouble, "; ".join(trouble[:3])))
    return results


def record_of_checks(seen, vm, checks):
    """The record between the two marks of the system 'test'. By nodes a walk takes 4 references at most, for small pages;
    nested, 8 at least, for pages of 1 GiB in both dimensions."""
    records = [r for r in seen.records("bench") if r["vm"] == vm]
    r = records[-1] if records else {}
    refs = r.get("walk_refs") or 0
    low, high = {"nested": (8, 24), "shadow": (2, 24), "compound": (2, 24)}.get(r.get("paging"), (0, 0))
    good = r.get("bench") == "checks" and r.get("ok") and r.get("ops") == len(checks) and \
        r.get("exits") == sum(r.get("exits_by", {}).values()) and r.get("exits_by", {}).get("preemption_timer", 0) > 0 and \
        r.get("walks_audited", 0) > 100 and low <= refs <= high
    return expect(f"{vm}: the checks' record tells of exits and walks", good, f"{records}")


def stats_of(seen, vm):
    return next((r for r in seen.records("stats") if r["vm"] == vm), {})


def check_states(seen, vm, paging, forced=False):
    """What the compound page table of a VM must have done."""
    stats = stats_of(seen, vm)
    results = []
    if paging == "compound":
        results.append(expect(f"{vm}: roots rise and tables change their handling",
                              stats.get("root_changes", 0) > 0 and stats.get("demotions", 0) > 0, f"{stats}"))
    if paging == "shadow":
        times = stats.get("state_ticks", {})
        nodes = times.get("shadow", 0) + (times.get("compound", 0) if forced else 0)
        results.append(expect(f"{vm}: most of its time it walks nodes", nodes > sum(times.values()) / 2, f"{times}"))
    if forced:
        results.append(expect(f"{vm}: changes are forced", stats.get("promotions", 0) + stats.get("demotions", 0) +
                              stats.get("root_changes", 0) > 1000, f"{stats}"))
    return results


def linux(name, paging, cpus=1, processors=1, checks=QUICK, keys=(), limit=500, forced=False):
    def check(seen):
        return [ended(seen, 0)] + check_one(seen, "linux", checks) + check_states(seen, "linux", paging, forced)

    return Scenario(name, check, lambda: [linux_vm("linux", paging, cpus, checks, *keys)], linux_files, processors=processors,
                    limit=limit, globals=NOT_HASHED)


def linux_in_turn(paging, cpus):
    """All EPT page sizes, without and with changes forced at random: a VM each, in one boot."""
    kinds = {f"linux-{page}{'-stress' if forced else ''}": (page, forced)
             for forced, page in itertools.product((False, True), ("4k", "2m")) if not forced or paging != "nested"}

    def vms():
        return [linux_vm(name, paging, cpus, CHECKS, ("ept_page", page), *([("stress", "100")] if forced else []))
                for name, (page, forced) in kinds.items()]

    def check(seen):
        results = [ended(seen, 0)]
        for name, (_, forced) in kinds.items():
            results += check_one(seen, name, CHECKS) + check_states(seen, name, paging, forced)
        return results

    return Scenario(f"linux-{paging}-{cpus}", check, vms, linux_files, processors=min(cpus, 2), limit=3600,
                    globals=NOT_HASHED)


# --- two VMs beside each other: one is ended, one has a triple fault and starts again, the third goes on ---------


def neighbours():
    return [linux_vm("steady", "compound", 2, QUICK), ("victim", [("image", "loop.elf"), ("time_limit", TIME_LIMIT)]),
            ("phoenix", [("image", "reset.elf"), ("args", "how=triple"), ("on_reset", "restart"), ("memory", "32M"),
                         ("time_limit", TIME_LIMIT)])]


def check_neighbours(seen):
    resets = [r for r in seen.records("vm") if r["name"] == "phoenix"]
    return [*check_one(seen, "steady", QUICK), *check_states(seen, "steady", "compound"),
            ends_as(seen, "victim", "ended"),
            expect("the one with a triple fault starts again and ends well",
                   [(r["end"], r["status"]) for r in resets] == [("reset", 0), ("exit", 1)], f"{resets}"),
            ended(seen, 1)]  # a VM that a person ended did not end well


# --- three Linux VMs: one is killed, one has a triple fault and starts again, the third is unmoved ---------------


# Without `timer`, which wants to be woken in time: nine virtual processors share two.
STEADY, PHOENIX = ([c for c in checks if c != "timer"] for checks in (CHECKS, QUICK))


def side_by_side():
    shell = systems.build("shell")
    return [linux_vm("steady", "shadow", 4, STEADY),
            ("victim", [*shell.keys(pvh=True), ("memory", "192M"), ("paging", "nested"), ("trace", "0"),
                        ("time_limit", TIME_LIMIT)]),
            linux_vm("phoenix", "compound", 4, PHOENIX, ("on_reset", "restart"), options="reboot=t", arguments="again")]


def check_side_by_side(seen):
    ends = [(r["name"], r["end"]) for r in seen.records("vm")]
    text = guest_text(seen, "phoenix")
    return [*check_one(seen, "steady", STEADY),
            ends_as(seen, "victim", "ended"),
            expect("phoenix has a triple fault", "it resets itself" in text and ("phoenix", "reset") in ends, f"{ends}"),
            expect("and comes back", "back after a reset" in text and ends.count(("phoenix", "poweroff")) == 1, f"{ends}"),
            *check_last_life(seen, "phoenix", PHOENIX),
            expect("all that happens while steady runs", set(ends[:2]) == {("victim", "ended"), ("phoenix", "reset")}, f"{ends}"),
            ended(seen, 1)]  # a VM that a person ended did not end well


def check_last_life(seen, vm, checks):
    text = guest_text(seen, vm).partition("back after a reset")[2]
    return [expect(f"{vm}: {name}", re.search(rf"^result {name} ok\r?$", text, re.M), "not ok") for name in checks] + \
        [record_of_checks(seen, vm, checks)]


# The shell of the one that is ended stands at its prompt; the others boot meanwhile.
END_SHELL = [(b"the end of this shell ends the machine", b"\x01c"), (b"twofold> ", b"end victim\r"),
             (b"victim: ended", b"quit\r")]


# --- the kernel's warnings, beside those of the same kernel on the bare machine ----------------------------------


def with_log(paging):
    return linux_vm(paging, paging, 1, ["none"], options=f"loglevel={bare.LOGLEVEL}", arguments="log")


def check_warnings(seen):
    results = [ended(seen, 0)]
    known = bare.boot(systems.build("test"), f"{systems.NO_CIPHER_TESTS} -- checks=none log").kernel_log()
    results.append(expect("the bare machine's kernel has warnings to compare with", len(known) > 10, f"{known}"))
    for paging in PAGINGS:
        text = guest_text(seen, paging)
        log = bare.kernel_log(text.splitlines())
        new = bare.warnings_only_in(log, known)
        results.append(ends_as(seen, paging, "poweroff", 0))
        results.append(expect(f"{paging}: it prints its log", "log begin" in text and "log end" in text, "it does not"))
        results.append(expect(f"{paging}: no warning that the bare machine's kernel has not", not new, "; ".join(new)))
    return results


# --- the workloads -----------------------------------------------------------------------------------------------


def check_workloads(paging):
    def check(seen):
        said = workloads.results(guest_text(seen, paging))
        records = {r["bench"]: r for r in seen.records("bench")}
        results = [ended(seen, 0), ends_as(seen, paging, "poweroff", 0)]
        for name in workloads.NAMES:
            results.append(expect(name, said.get(name) == "ok", said.get(name, "it has no result")))
            r = records.get(name, {})
            results.append(expect(f"{name} has a record", r.get("ok") and r["exits"] > 0 and r["walks_audited"] > 0, f"{r}"))
        return results
    return check


def workloads_scenario(paging):
    return Scenario(f"workloads-{paging}", check_workloads(paging),
                    lambda: [workloads.vm(systems.build("workloads"), paging)],
                    lambda folder: systems.build("workloads").files(pvh=True), limit=3600, globals=NOT_HASHED)


# --- the Multiboot kernel ----------------------------------------------------------------------------------------


def platform(name, paging, cpus, processors, without=""):
    # Where processors take turns, an interrupt comes when its processor's turn does.
    busy = " busy" if cpus > processors else ""
    keys = [("image", "platform.elf"), ("args", f"cpus={cpus}{busy}"), ("memory", "64M"), ("cpus", cpus), ("paging", paging),
            ("time_limit", "100s")]

    def check(seen):
        text = guest_text(seen, "platform")
        failed = [line for line in text.splitlines() if line.startswith("FAIL")]
        last = re.search(r"platform: (\d+) passed, (\d+) failed, (\d+) skipped", text)
        skipped = 0 if cpus > 1 else 10
        return [ends_as(seen, "platform", "exit", 1),
                expect("all of its checks pass", last and int(last[1]) >= 60 and last[2] == "0" and int(last[3]) <= skipped,
                       "; ".join(failed) or str(last and last[0]))]

    return Scenario(name, check, [("platform", keys)], lambda folder: [GUESTS / "platform.elf"], processors=processors,
                    globals=f"without = {without}" if without else "", limit=300)


def check_small(seen):
    idle = re.search(r"woken=(\d+)", guest_text(seen, "idle"))
    order = [r["name"] for r in seen.records("vm")]
    return [ended(seen, 1), ends_as(seen, "off", "poweroff", 0), ends_as(seen, "idle", "exit", 1),
            expect("VMs come and go beside one that keeps its processor busy", order[-1:] == ["busy"] and len(order) > 6, f"{order}"),
            ends_as(seen, "busy", "ended"),
            expect("idle wakes as often as its timer says", idle and int(idle[1]) == 50, guest_text(seen, "idle")),
            *(ends_as(seen, f"reset-{how}", "reset", 0) for how in ("cf9", "kbd")),
            ends_as(seen, "triple", "reset", 0), has(seen, "back after a reset")]


# One has the boot processor for itself and never waits; the others are on the other processor.
BUSY = ("busy", [("image", "loop.elf"), ("memory", "32M"), ("pin", "0"), ("time_limit", "60s")])
SMALL = [BUSY, *((name, [("image", image), ("memory", "32M"), ("pin", "1"), *keys]) for name, image, *keys in (
    ("off", "poweroff.elf"),
    ("idle", "idle.elf", ("args", "by=apic times=50")),
    ("reset-cf9", "reset.elf", ("args", "how=cf9")),
    ("reset-kbd", "reset.elf", ("args", "how=kbd")),
    ("triple", "reset.elf", ("args", "how=triple"), ("on_reset", "restart"))))]
END_BUSY = [(b"looping by jump", b""), (b"back after a reset", b""), (b'"name": "triple", "end": "exit"', b"\x01cend busy\r")]


# Ctrl-A c opens the monitor's line; the VM that loops for ever is ended while Linux boots.
END_VICTIM = [(b"Linux version", b"\x01c"), (b"twofold> ", b"end victim\r"), (b"victim: ended", b"quit\r")]

ALL = [
    linux("linux-nested", "nested", checks=CHECKS),
    linux("linux-shadow", "shadow"),
    Scenario("linux-neighbours", check_neighbours, neighbours,
             lambda folder: [*linux_files(folder), GUESTS / "loop.elf", GUESTS / "reset.elf"], processors=2,
             globals=f"run = together\n{NOT_HASHED}", limit=600, answers=END_VICTIM),
    platform("platform", "nested", 4, 4),
    platform("platform-shared", "compound", 3, 1),
    Scenario("small-guests", check_small, SMALL,
             lambda folder: [GUESTS / f"{n}.elf" for n in ("loop", "poweroff", "idle", "reset")], globals="run = together",
             processors=2, answers=END_BUSY, limit=300),
]

LONG = [
    *(linux_in_turn(paging, cpus) for paging, cpus in itertools.product(PAGINGS, (1, 4))),
    Scenario("linux-side-by-side", check_side_by_side, side_by_side,
             lambda folder: [*linux_files(folder), systems.build("shell").initramfs], processors=2,
             globals=f"run = together\n{NOT_HASHED}", limit=1200, answers=END_SHELL),
    Scenario("linux-warnings", check_warnings, lambda: [with_log(paging) for paging in PAGINGS], linux_files, limit=1200,
             globals=NOT_HASHED),
    *(workloads_scenario(paging) for paging in PAGINGS),
    # APIC virtualisation in parts, and none of it.
    *(platform(f"platform-without-{without.replace(' ', '-')}", "nested", 3, 1, without)
      for without in ("tpr_shadow", "virtual_interrupts", "virtual_interrupts apic_registers", "apic_access virtual_x2apic",
                      "apic_registers")),
]
