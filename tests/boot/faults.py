#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Boots of the build that injects faults (hv/faults.h, docs/robustness.md).

ALL is part of the booted tests: one boot in which a processor stops while it starts, each capability in turn is found
missing, each allocation of making a VM fails once, guests are kept from their processors, and at last a processor hangs.
Called as a program, for `make faults`, each allocation of the hypervisor's own start fails, in a boot of its own, and each
of whole runs of some guests.
"""

import concurrent.futures
import pathlib
import re
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from scenarios import Scenario, ended, expect, guest_files, has  # noqa: E402
from twofold import image  # noqa: E402

FOLDER = image.ROOT / "build/faults"
LOADER = FOLDER / "BOOTX64.EFI"
HYPERVISOR = FOLDER / "twofold.elf"
VMS_MAX = 256
WATCHDOG_SECONDS = 1  # of the machine's time

# How a VM may end that could not be made: what was missing is told.
REFUSED = re.compile(r"no memory|but the largest free run|has no such run|VMPTRLD failed")


def ini(globals_text, vms):
    """A settings file; `vms` as for image.ini."""
    return image.ini("bochs", vms, globals_text)


def scenario(name, check, settings, guests, **more):
    return Scenario(name, check, settings, guest_files(*guests), hypervisor=lambda folder: HYPERVISOR, loader=LOADER, **more)


def series(name, keys, first, last):
    """VMs of which each has another of its allocations fail."""
    return [(f"{name}-{n}", [*keys, ("fail", f"alloc:{n}")]) for n in range(first, last + 1)]


def check_series(seen, name, all_must_come=True):
    """Each of them was refused for a good reason, or ran. The last ones must be beyond the last allocation."""
    ends = {r["name"]: r for r in seen.records("vm") if r["name"].startswith(f"{name}-")}
    faults = {r["vm"]: r for r in seen.records("fault") if str(r["vm"]).startswith(f"{name}-")}
    bad = [r for r in ends.values() if not ((r["end"], r["status"]) == ("exit", 1) or
                                            (r["end"] == "stopped" and REFUSED.search(r["why"])))]
    refused = sum(r["end"] == "stopped" for r in ends.values())
    missed = [n for n, r in faults.items() if not r["failed"]]
    return [expect(f"{name}: each is refused with its reason, or runs", ends and not bad, f"{bad[:3]}"),
            expect(f"{name}: some are refused, and one runs", 0 < refused < len(ends), f"{refused} of {len(ends)}"),
            expect(f"{name}: every allocation has failed once", missed or not all_must_come,
                   f"the making has more than {len(faults)} allocations")]


def nothing_lost(seen):
    records = seen.records("memory")
    lost = [r for r in records if r["lost"] or r["lost_nodes"]]
    return expect("no VM leaves anything behind", records and not lost, f"{lost[:3]} of {len(records)}")


# --- the one boot of `make test` ---------------------------------------------------------------------------------

SMALL = [("image", "ends.elf"), ("memory", "4M"), ("trace", "64")]
CREATIONS = [  # (name, keys, VMs: one more at least than the making has allocations)
    ("nested", [*SMALL, ("paging", "nested"), ("ept_page", "4k")], 24),
    ("compound", [*SMALL, ("paging", "compound"), ("ept_page", "2m"), ("cpus", "2")], 34),
    ("native", [*SMALL, ("paging", "native")], 9),
]

KEPT_OUT = [("kept-out", [("pin", "1")]), ("kept-out-shared", [("paging", "nested"), ("cpus", "2")])]


def check_kept_out(seen, name):
    ends = [(r["end"], r["why"]) for r in seen.records("vm") if r["name"] == name]
    why = f"virtual processor 0 was looked at for {WATCHDOG_SECONDS} s and never entered"
    return expect(f"{name}: the VM alone is stopped", ends == [("stopped", why)], f"{ends}")


def all_in_one():
    vms = []
    for name, keys, count in CREATIONS:
        vms += series(name, keys, 1, count)
    vms += [(name, [*SMALL, *keys, ("fail", "kept-out")]) for name, keys in KEPT_OUT]
    return vms + [("stuck", [("image", "exits.elf"), ("pin", "1"), ("fail", "stuck")])]


# Which capabilities the start cannot do without, and what else it asks for.
CANNOT_DO_WITHOUT = ["VT-x", "external-interrupt exiting", "NMI exiting", "TSC offsetting", "HLT exiting", "MSR bitmaps",
                     "secondary controls", "EPT", "host address-space size", "load IA32_EFER (entry)", "4-level walks", "INVEPT"]
DOES_WITHOUT = ["virtual NMIs", "VMX-preemption timer", "VPID", "unrestricted guest", "RDTSCP", "INVPCID", "XSAVES/XRSTORS",
                "save VMX-preemption timer value", "monitor trap flag", "2-MiB EPT pages", "1-GiB EPT pages", "INVVPID"]


def check_capabilities(seen):
    said = dict(re.findall(r"^twofold: fault: without (.*?): (.*)$", seen.text(), re.M))
    results = []
    for name in CANNOT_DO_WITHOUT:
        results.append(expect(f"without {name} it says why it cannot run",
                              said.get(name) and said[name] != "goes on" and
                              (name in said[name] or "this processor" in said[name]), f"it says {said.get(name)}"))
    for name in DOES_WITHOUT:
        if name in said or name not in ("monitor trap flag",):  # which Bochs' processor lacks
            results.append(expect(f"without {name} it goes on", said.get(name) == "goes on", f"it says {said.get(name)}"))
    return results


def check_all_in_one(seen):
    text = seen.text()
    results = [ended(seen, 2), has(seen, "2 used"),
               has(seen, "the one with APIC id 1 is left out: it has stopped while clocks were compared"),
               has(seen, "SMEP off"), has(seen, "EPT pages up to 2m, VPID no")]
    results += check_capabilities(seen)
    for name, _, _ in CREATIONS:
        results += check_series(seen, name)
    results += [check_kept_out(seen, name) for name, _ in KEPT_OUT]
    results.append(nothing_lost(seen))
    results += [has(seen, f"PANIC: processor 1 is stuck: it has got nowhere for {WATCHDOG_SECONDS} s"),
                expect("and tells where it was",
                       re.search(r"processor 1: at \w+ (hypercall|processor_relax)\+0x\w+, for stuck\nback trace:\n", text),
                       "it does not"),
                expect("its callers, too", re.search(r"^  \w+ vmx_handle_exit\+0x", text, re.M), "it does not")]
    return results


ALL = [scenario("faults", check_all_in_one,
                lambda: ini(f"watchdog = {WATCHDOG_SECONDS}s\nfail = cpu-stops:1 capability:each "
                            "capability:VPID capability:SMEP capability:1-GiB-EPT-pages", all_in_one()),
                ["ends", "exits"], processors=3, limit=400)]


def check_early(seen):
    """A table of the hypervisor's own, before any console is open."""
    return [ended(seen, 2), has(seen, "PANIC: no memory for the hypervisor's page tables"),
            expect("the machine ends", not seen.timed_out, "it does not")]


# QEMU boots in a moment; without guests it needs no VT-x.
ALL.append(scenario("faults-early", check_early, "[twofold]\nat_end = qemu\nself_test = processors\nfail = alloc:3\n"
                    "[ends]\nimage = ends.elf\n", ["ends"], machine="qemu", limit=100))


# --- the long run ------------------------------------------------------------------------------------------------

# Each of these alone: what the start asks for once only.
CAPABILITIES = ["VMXON", "IA32_FEATURE_CONTROL", "VMPTRLD", "x2APIC", "TSC deadline", "SMAP", "1-GiB pages", "RDSEED", "RDRAND",
                "VMX-preemption timer", "virtual NMIs", "save VMX-preemption timer value", "unrestricted guest", "RDTSCP",
                "INVPCID", "INVVPID", "2-MiB EPT pages", "1-GiB EPT pages", "EPT"]
START_VMS = [("nested", [("image", "ends.elf"), ("memory", "16M"), ("paging", "nested")]),
             ("compound", [("image", "ends.elf"), ("memory", "16M"), ("paging", "compound")])]

# Whole runs: guests, how they are translated, and arguments that keep them short.
LONG_RUNS = [("touch", "compound", "2m", None), ("churn", "compound", "2m", None), ("churn", "shadow", "2m", None),
             ("fork", "compound", "2m", None), ("checks", "nested", "4k", None)]


def start_scenario(name, words, processors=2):
    """A boot with faults of the start: it ends by itself, in whatever way, and says why if it cannot go on."""
    def check(seen):
        text = seen.text()
        ends = seen.records("end")
        status = ends[-1]["status"] if ends else None
        told = re.search(r"PANIC: no memory|cannot run: ", text) is not None
        vms = seen.records("vm")
        well = len(vms) == len(START_VMS) and all(r["status"] == 1 or REFUSED.search(r["why"]) for r in vms)
        return [expect("it comes to its end", ends and not seen.timed_out, "it does not"),
                expect("it works, or says what is missing", (status in (0, 1) and well) or (status in (2, 3) and told),
                       f"status {status}, {vms}"),
                expect("nothing is lost", not any(r["lost"] for r in seen.records("memory")), "something is")]
    return scenario(f"faults-{name}", check, ini(f"fail = {words}", START_VMS), ["ends"], processors=processors, limit=600)


def check_counts(seen):
    counts = {r["vm"]: r["allocations"] for r in seen.records("fault")}
    return [expect("allocations are counted", len(counts) == len(LONG_RUNS) + 1, f"{counts}")]


def counting():
    """A boot without a fault that counts the allocations of the start and of each of LONG_RUNS."""
    vms = [(run_name(run), [*run_keys(run), ("fail", "alloc:1000000")]) for run in LONG_RUNS]
    return scenario("faults-count", check_counts, ini("", vms), sorted({run[0] for run in LONG_RUNS}), processors=2, limit=900)


def run_name(run):
    return ".".join(part for part in run[:3])


def run_keys(run):
    name, paging, page, args = run
    return [("image", f"{name}.elf"), ("memory", "128M"), ("paging", paging), ("ept_page", page), ("trace", "0"),
            ("time_limit", "300s"), *([("args", args)] if args else [])]


def run_scenarios(counts):
    """Each allocation of each run fails once; of very many only some."""
    for run in LONG_RUNS:
        count = counts.get(run_name(run), 0)
        step = count // VMS_MAX + 1
        vms = [(f"{run_name(run)}-{n}", [*run_keys(run), ("fail", f"alloc:{n}")]) for n in range(1, count + 2, step)][:VMS_MAX]

        def check(seen, name=run_name(run)):
            return [*check_series(seen, name, all_must_come=False), nothing_lost(seen)]

        yield scenario(f"faults-{run_name(run)}", check, ini("", vms), [run[0]], limit=7200)


def main():
    import run as runner
    failed = 0

    def tell(results):
        nonlocal failed
        for name, why in results:
            failed += why is not None
            print(f"ok {name}" if why is None else f"FAIL {name}: {why}", flush=True)

    first = counting()
    seen = runner.boot(first)
    tell((f"{first.name}: {name}", why) for name, why in first.check(seen))
    counts = {r["vm"]: r["allocations"] for r in seen.records("fault")}
    print(f"# allocations: {counts}", flush=True)
    chosen = [start_scenario(f"start-{n}", f"alloc:{n}") for n in range(1, counts.get(None, 0) + 1)]
    chosen += [start_scenario(f"without-{c.replace(' ', '-')}", f"capability:{c.replace(' ', '-')}") for c in CAPABILITIES]
    chosen.append(start_scenario("start-processors", "cpu:1 cpu-differs:2 cpu-hangs:3 cpu-stops:4", processors=6))
    chosen += list(run_scenarios(counts))
    words = sys.argv[1:]
    with concurrent.futures.ThreadPoolExecutor(runner.SIDE_BY_SIDE) as pool:
        for name, seconds, results in pool.map(runner.run_scenario, [s for s in chosen if not words or any(w in s.name for w in words)]):
            print(f"# {name}: {seconds} s", flush=True)
            tell(results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
