# SPDX-License-Identifier: BSD-2-Clause
"""What the booted tests boot, and what must then be on the console."""

import dataclasses
import pathlib
import re
import struct
import typing

from twofold import image

GUESTS = image.GUESTS
BENCHMARKS = ["exits", "touch", "churn", "mixed", "batch", "demand", "fork", "switch", "scan", "phases", "huge", "tables"]

# Round trips that the emulated machine repeats exactly, in instructions.
VMCALL_MAX = 150
CPUID_MAX = 200

# References of a walk for a 4-KiB guest page, g levels under an EPT walk of h: g * (h + 1) + h.
WALK_REFERENCES = {"4k": 24, "2m": 19, "1g": 14}


@dataclasses.dataclass
class Scenario:
    name: str
    check: typing.Callable  # (console) -> [(name, reason or None)]
    settings: typing.Any = None  # text, or VMs as for image.ini, or a function that gives them; None: no settings file
    files: typing.Callable = lambda folder: []
    hypervisor: typing.Any = lambda folder: image.HYPERVISOR  # None: not on the image
    loader: typing.Any = image.LOADER
    machine: str = "bochs"
    cpu_model: typing.Any = None
    globals: str = ""  # further lines of [twofold]
    memory: int = 3072  # MiB
    processors: int = 1
    limit: float = 240  # seconds
    answers: typing.Sequence = ()  # (what is awaited, what is then typed), bytes, in their order; none: no input
    devices: typing.Sequence = ()  # further ones, for QEMU


def expect(name, condition, why):
    return name, None if condition else why


def has(seen, phrase):
    return expect(f"says '{phrase}'", phrase in seen.text(), "it does not")


def guest(name, *keys):
    """A VM of a bundled image; the VM is called as the image."""
    return name, [("image", f"{name}.elf"), *keys]


def guest_files(*names):
    return lambda folder: [GUESTS / f"{n}.elf" for n in names]


def ends_as(seen, vm, end, status=None, phrase=""):
    record = seen.vm(vm)
    good = record.get("end") == end and (status is None or record.get("status") == status) and \
        phrase in record.get("why", "")
    return expect(f"{vm} ends as it must ({end}{' ' + phrase if phrase else ''})", good, f"it ends as {record}")


def ended(seen, status):
    ends = seen.records("end")
    return expect(f"the hypervisor ends with status {status}", ends and ends[-1]["status"] == status,
                  f"its last records are {ends}")


# --- the suite, with each EPT page size --------------------------------------------------------------------------


# Where each store to a table traps, a part of what does nothing else is enough.
ARGS = {("checks", "compound"): "every=7", ("checks", "shadow"): "every=61"}


def suite_vms(page, paging="nested", *keys):
    memory = "1G" if page == "1g" else "128M"
    common = [("memory", memory), ("ept_page", page), ("paging", paging), ("trace", "0"), ("time_limit", "600s"), *keys]
    return [guest(n, *common, *([("args", ARGS[n, paging])] if (n, paging) in ARGS else []))
            for n in BENCHMARKS + ["checks"]]


def suite_ends(seen):
    results = [ended(seen, 0)]
    results += [ends_as(seen, n, "exit", 1) for n in BENCHMARKS + ["checks"]]
    bench = {(r["bench"], r["phase"]): r for r in seen.records("bench")}
    for name in BENCHMARKS:
        names = [n for n, phase in bench if n.split(".")[0] == name and phase == "steady"]
        good = names and all(bench[n, "steady"]["ok"] and bench[n, "steady"]["ops"] > 0 and
                             bench[n, "steady"]["ticks"] > 0 for n in names)
        results.append(expect(f"{name} has steady records that are ok", good, f"they are {names}"))
    text = b"".join(seen.guest_bytes("checks").splitlines(True))
    results.append(expect("no group of checks is skipped", b"21 groups, 0 skipped" in text, "some are"))
    return results, bench


def no_counters(seen, reason):
    """No number where nothing counts, and the reason with each record and below the table."""
    records = seen.records("bench")
    good = records and all(r["pmu"] is None and reason in r["pmu_reason"] for r in records)
    lines = seen.text().count(f"performance counters: {reason}")
    return [expect("no record has performance counters, and all say why", good,
                   f"they have {[(r.get('pmu'), r.get('pmu_reason')) for r in records[:3]]}"),
            expect("the start and the table say so too", lines == 2, f"{lines} lines do")]


# Bochs enumerates counters that stand still.
NO_COUNTERS = "not available on this processor (CPUID leaf 0xa: version "


def check_suite(page):
    def check(seen):
        results, bench = suite_ends(seen)
        results += no_counters(seen, NO_COUNTERS)
        references = bench.get(("touch", "steady"), {}).get("walk_refs")
        results.append(expect(f"a walk takes {WALK_REFERENCES[page]} references",
                              references == WALK_REFERENCES[page], f"audited: {references}"))
        results += round_trips(bench)
        return results
    return check


# --- shadow and compound paging ----------------------------------------------------------------------------------


def exits_but_the_timer(record):
    return record.get("exits", -1) - record.get("exits_by", {}).get("preemption_timer", 0)


def check_shadow(seen):
    results, bench = suite_ends(seen)
    touch = bench.get(("touch", "steady"), {})
    results.append(expect("a walk takes 4 references", touch.get("walk_refs") == 4, f"audited: {touch}"))
    results.append(expect("nothing is demoted", all(r["demotions"] == 0 for r in bench.values()), "something is"))
    churn = bench.get(("churn", "steady"), {})
    results.append(expect("churn: its table is out of sync, INVLPG exits, stores do not",
                          churn.get("exits_by", {}).get("invlpg", 0) >= churn.get("ops", 1) and
                          churn.get("pt_writes_trapped", 1) == 0, f"churn: {churn}"))
    results.append(out_of_sync(bench))
    results.append(expect("handling exits takes a part of churn's time",
                          0 < churn.get("host_ticks", 0) < churn.get("ticks", 0), f"churn: {churn}"))
    return results


def out_of_sync(bench):
    """A batch of stores with one flush costs a few exits where SHADOW walks, not one a store."""
    batch = bench.get(("batch", "steady"), {})
    few = batch.get("walk_refs") == 4 and exits_but_the_timer(batch) <= 10 * batch.get("ops", 0)
    return expect("batch: out of sync in SHADOW", few, f"batch: {batch}")


def check_compound(seen):
    results, bench = suite_ends(seen)
    steady = {name: r for (name, phase), r in bench.items() if phase == "steady"}
    touch = steady.get("touch", {})
    results.append(expect("touch: SHADOW, 4 references", touch.get("walk_refs") == 4, f"audited: {touch}"))
    results.append(expect("touch: no exits", exits_but_the_timer(touch) <= touch.get("ops", 0) / 1000,
                          f"exits: {touch.get('exits_by')}"))
    churn = steady.get("churn", {})
    # Each try to take the region back costs some 45 exits; tries get rarer and rarer.
    results.append(expect("churn: hardly an exit", exits_but_the_timer(churn) <= churn.get("ops", 0) / 500,
                          f"exits: {churn.get('exits_by')}"))
    mixed = steady.get("mixed", {})
    share = mixed.get("walks_by", {})
    results.append(expect("mixed: stable regions walk nodes, and hardly any store traps",
                          mixed.get("walk_refs", 99) < WALK_REFERENCES["4k"] and share.get("nested") == 0 and
                          mixed.get("pt_writes_trapped", 1 << 30) < mixed.get("ops", 0) / 1000, f"mixed: {mixed}"))
    phases = steady.get("phases", {})
    results.append(expect("phases: regions come back after each burst",
                          phases.get("promotions", 0) >= 6 and phases.get("demotions", 0) >= 6 and
                          phases.get("walks_by", {}).get("shadow", 0) > 900, f"phases: {phases}"))
    results.append(out_of_sync(bench))
    small = all(r["node_bytes"] <= 0.004 * r["mapped_bytes"] for r in (touch, phases) if r)
    results.append(expect("shadow memory is below 0.4 % of what it maps", small, f"{touch}, {phases}"))
    stats = {r["vm"]: r for r in seen.records("stats")}
    states = stats.get("touch", {}).get("state_ticks", {})
    results.append(expect("touch spends its time in SHADOW", states.get("shadow", 0) > 9 * states.get("nested", 1),
                          f"states: {states}"))
    return results


# Instructions that single steps of page-table work may take, with nodes and EPT.
COSTS = {"tables.write": 600, "tables.sync": 500, "tables.cr3": 250, "tables.fault": 60}
BURST_MAX = 9000  # while its region stays demoted; the mean has rounds in which the profiler tries to take it back
BURST_MEAN_MAX = 10500
PROMOTION_MAX = 12000


def costs_vms():
    keys = [("memory", "128M"), ("ept_page", "4k"), ("time_limit", "120s")]
    return [
        ("compound", [("image", "tables.elf"), ("policy", "static"), ("args", "rounds=4"), *keys]),
        ("free", [("image", "tables.elf"), ("args", "ops=4"), *keys]),
        ("levels", [("image", "touch.elf"), ("policy", "static"), ("switch_level", "2"), *keys]),
        ("threshold", [("image", "mixed.elf"), ("policy", "threshold"), *keys]),
        ("little", [("image", "touch.elf"), ("shadow_memory", "64K"), *keys]),
        ("trace", [("image", "phases.elf"), ("trace", "4096"), *keys]),
        ("modes", [("image", "modes.elf"), ("ept_page", "4k")]),
    ]


def least_ticks(seen, vm):
    """By benchmark, what the guest saw the quickest of its steps take."""
    lines = seen.guest_bytes(vm).decode().splitlines()
    matches = [re.fullmatch(r"least bench=(\S+) ticks=(\d+)", line) for line in lines]
    return {match[1]: int(match[2]) for match in matches if match}


def check_costs(seen):
    records = {(r["vm"], r["bench"], r["phase"]): r for r in seen.records("bench")}
    results = [ended(seen, 0)]
    results += [ends_as(seen, vm, "exit", 1) for vm, _ in costs_vms()]
    # The mean of a step holds an end of the profiler's interval now and then; the guest also prints the least.
    least = least_ticks(seen, "compound")
    for name, most in COSTS.items():
        cost = least.get(name)
        results.append(expect(f"{name}: at most {most} instructions", cost and cost <= most, f"it takes {cost}"))
    burst = records.get(("free", "tables.burst", "steady"))
    cost = least_ticks(seen, "free").get("tables.burst")
    results.append(expect(f"a burst in a demoted region: at most {BURST_MAX} instructions", cost and cost <= BURST_MAX,
                          f"it takes {cost}"))
    mean = burst["ticks"] / burst["ops"] if burst else None
    results.append(expect(f"bursts on and on: at most {BURST_MEAN_MAX} instructions each", mean and mean <= BURST_MEAN_MAX,
                          f"they take {mean}"))
    # Levels 4 and 3 are walked in nodes, by 1-GiB EPT pages; 2 and 1 in the guest's tables: 2 * 3 + 2 * 5 + 4.
    levels = records.get(("levels", "touch", "steady"), {})
    results.append(expect("a switch at level 2 takes 20 references", levels.get("walk_refs") == 20,
                          f"audited: {levels.get('walk_refs')}"))
    mixed = records.get(("threshold", "mixed", "steady"), {})
    results.append(expect("the policy threshold demotes what changes",
                          mixed.get("pt_writes_trapped", 1 << 30) < mixed.get("ops", 0) / 100, f"mixed: {mixed}"))
    stats = {r["vm"]: r for r in seen.records("stats")}
    little = stats.get("little", {})
    results.append(expect("too little memory for nodes ends in nested handling",
                          little.get("evictions", 0) > 0 and little.get("nodes_shadow", 99) <= 8, f"{little}"))
    promotion = stats.get("trace", {}).get("promotion_ticks_max")
    results.append(expect(f"a promotion of a full table: at most {PROMOTION_MAX} instructions",
                          promotion and promotion <= PROMOTION_MAX, f"it takes {promotion}"))
    trace = [r for r in seen.records("trace") if r["vm"] == "trace"]
    events = {r["event"] for r in trace}
    results.append(expect("the trace tells of promotions, demotions, roots, syncs and stores",
                          {"promote", "demote", "root", "sync", "write"} <= events, f"it has {events}"))
    moved = [(r.get("level"), r.get("va", 0) % (2 << 20)) for r in trace if r["event"] in ("promote", "demote", "fill")]
    results.append(expect("and of the region that each of them is about",
                          {(1, 0)} <= set(moved) and not any(level is None or at for level, at in moved), f"{moved}"))
    results.append(has(seen, "regions of the root that runs:"))
    return results


def check_stress(seen):
    results, _ = suite_ends(seen)
    stats = {r["vm"]: r for r in seen.records("stats")}
    forced = sum(r.get("promotions", 0) + r.get("demotions", 0) for r in stats.values())
    results.append(expect("thousands of changes are forced", forced > 2000, f"there are {forced}"))
    return results


def round_trips(bench):
    """The costs of exits that the README promises."""
    results = []
    for name, reason, most in (("exits.vmcall", "vmcall", VMCALL_MAX), ("exits.cpuid", "cpuid", CPUID_MAX)):
        r = bench.get((name, "steady"))
        cost = r["ticks"] / r["ops"] if r else None
        results.append(expect(f"{name}: at most {most} instructions", r and cost <= most, f"it takes {cost}"))
        results.append(expect(f"{name}: one exit an operation", r and r["exits_by"] == {reason: r["ops"]},
                              f"exits: {r and r['exits_by']}"))
        host = r["host_ticks"] / r["ops"] if r else None
        results.append(expect(f"{name}: handling is a part of it", r and 0 < host < cost, f"{host} of {cost}"))
    cr3 = bench.get(("exits.cr3_load", "steady"), {})
    results.append(expect("exits.cr3_load: no exit, no host_ticks", cr3.get("exits") == 0 and cr3.get("host_ticks") == 0,
                          f"exits: {cr3.get('exits_by')}, host_ticks: {cr3.get('host_ticks')}"))
    return results


# --- ends, time limits, bad guests ---------------------------------------------------------------------------------


def ends_vms():
    limit = ("time_limit", "100ms")
    return [
        guest("triple"),
        guest("nowhere"),
        ("loop", [("image", "loop.elf"), limit]),
        ("loop-exits", [("image", "loop.elf"), ("args", "how=exits"), limit]),
        ("halt", [("image", "loop.elf"), ("args", "how=halt")]),
        ("value", [("image", "ends.elf"), ("args", "value=21")]),
        ("shutdown", [("image", "ends.elf"), ("args", "how=shutdown")]),
        ("partial", [("image", "ends.elf"), ("args", "how=partial")]),
        ("bytes", [("image", "ends.elf"), ("args", "how=bytes")]),
        ("badarg", [("image", "touch.elf"), ("args", "pagse=3")]),
        ("mbinfo", [("image", "mbinfo.elf"), ("args", "one two"), ("module", "hello.txt with arguments")]),
        ("mbaout", [("image", "mbinfo.bin"), ("args", "shutdown"), ("memory", "5G")]),
        ("small", [("image", "ends.elf"), ("memory", "4M")]),
        ("modes", [("image", "modes.elf"), ("ept_page", "4k")]),
        *((f"remains-{n}", [("image", "remains.elf"), ("memory", "16M"), ("on_reset", "restart")]) for n in (1, 2)),
    ]


def ends_files(folder):
    (folder / "hello.txt").write_text("Hello from a module\n")
    return [GUESTS / n for n in ("triple.elf", "nowhere.elf", "loop.elf", "ends.elf", "touch.elf", "mbinfo.elf",
                                 "mbinfo.bin", "modes.elf", "remains.elf")] + [folder / "hello.txt"]


def all_bytes():
    lines = ["".join(chr(ord("a") + (line + i) % 26) for i in range(333)) + "\n" for line in range(300)]
    return bytes(range(256)) + "".join(lines).encode()


def check_ends(seen):
    mbinfo = seen.guest_bytes("mbinfo").decode()
    return [
        ended(seen, 1),
        ends_as(seen, "triple", "stopped", phrase="triple fault"),
        ends_as(seen, "nowhere", "stopped", phrase="instruction fetch from guest-physical 0xe0000000"),
        ends_as(seen, "loop", "timeout"),
        ends_as(seen, "loop-exits", "timeout"),
        ends_as(seen, "halt", "stopped", phrase="HLT with nothing that could wake"),
        ends_as(seen, "value", "exit", 43),
        ends_as(seen, "shutdown", "shutdown", 0),
        ends_as(seen, "partial", "exit", 1),
        expect("a line without its end arrives", seen.guest_bytes("partial") == b"a line\nand a piece",
               f"it is {seen.guest_bytes('partial')!r}"),
        expect("every byte arrives as it is", seen.guest_bytes("bytes") == all_bytes(),
               f"{len(seen.guest_bytes('bytes'))} bytes arrive of {len(all_bytes())}"),
        ends_as(seen, "badarg", "exit", 3),
        expect("a bad argument is named", b"FAIL unknown argument: pagse=3" in seen.guest_bytes("badarg"),
               f"it says {seen.guest_bytes('badarg')!r}"),
        ends_as(seen, "mbinfo", "exit", 1),
        expect("Multiboot: command line, loader, module", all(p in mbinfo for p in (
            "cmdline=mbinfo.elf one two\n", "loader=Twofold\n",
            "string=hello.txt with arguments content=Hello from a mod")), mbinfo),
        ends_as(seen, "mbaout", "stopped", phrase="largest free run"),
        ends_as(seen, "small", "stopped", phrase="no room for the reserved area")
        if seen.vm("small").get("end") == "stopped" else ends_as(seen, "small", "exit", 1),
        ends_as(seen, "modes", "exit", 1),
        expect("32-bit and PAE paging, on and off", seen.guest_bytes("modes").count(b" ok\n") == 6,
               f"it says {seen.guest_bytes('modes')!r}"),
        *(expect(f"remains-{n} finds nothing of others, nor of itself after a reset",
                 [r["status"] for r in seen.records("vm") if r["name"] == f"remains-{n}"] == [0, 1] and
                 b"nothing remains" in seen.guest_bytes(f"remains-{n}"),
                 f"it says {seen.guest_bytes(f'remains-{n}')!r}") for n in (1, 2)),
        has(seen, "code at rip:"),
        has(seen, "supervisor shadow stacks on"),
        has(seen, "guards of processor 0: IBRS always on, branch history overwritten, return stack filled, one call at each exit, IBPB between VMs, "
                  "L1D flush, VERW"),
    ]


# --- images that cannot be loaded -----------------------------------------------------------------------------------


def elf64(segments, entry=0x200000, phnum=None):
    """An ELF64 file; segments: (flags, address, content, size in memory)."""
    header = 64 + 56 * len(segments)
    file, table = b"", b""
    for flags, address, content, size in segments:
        table += struct.pack("<IIQQQQQQ", 1, flags, header + len(file), address, address, len(content), size, 4096)
        file += content
    return struct.pack("<IBBBB8xHHIQQQIHHHHHH", 0x464C457F, 2, 1, 1, 0, 2, 62, 1, entry, 64, 0, 0, 64, 56,
                       phnum or len(segments), 64, 0, 0) + table + file


CODE = b"\xf4" * 64

BAD_IMAGES = {
    "empty": (b"", "neither a Linux bzImage nor an ELF64 file, and without a Multiboot header or a PVH note (0 bytes)"),
    "text": (b"this is no image\n" * 100, "neither a Linux bzImage nor an ELF64 file, and without a Multiboot header or a PVH note (1700 bytes)"),
    "cut": (elf64([(5, 0x200000, CODE, 64)])[:150], "truncated: segment at 0x200000"),
    "cut-headers": (elf64([(5, 0x200000, CODE, 64)], phnum=9), "truncated: the program headers"),
    "outside": (elf64([(5, 0x200000, CODE, 64), (6, 0x7fff000, b"", 0x2000)]), "lies outside the VM's 64 MiB"),
    "wraps": (elf64([(5, 0x200000, CODE, 64), (6, 0xfffffffffffff000, b"", 0x2000)]), "lies outside the VM's"),
    "overlap": (elf64([(5, 0x200000, CODE, 64), (6, 0x200020, CODE, 64)]), "overlaps the segment"),
    "entry": (elf64([(5, 0x200000, CODE, 64)], entry=0x300000), "entry point 0x300000 lies in no executable"),
    "entry-data": (elf64([(5, 0x200000, CODE, 64), (6, 0x300000, CODE, 64)], entry=0x300000),
                   "lies in no executable segment"),
}


def bad_image_files(folder):
    files = []
    for name, (content, _) in BAD_IMAGES.items():
        path = folder / f"{name}.elf"
        path.write_bytes(content)
        files.append(path)
    return files + [GUESTS / "ends.elf"]


def check_bad_images(seen):
    return [ended(seen, 1)] + [ends_as(seen, n, "stopped", phrase=p) for n, (_, p) in BAD_IMAGES.items()] + \
        [ends_as(seen, "ends", "exit", 1)]


# --- the loader's messages --------------------------------------------------------------------------------------------

# The firmware goes on after the loader has returned: it looks for another thing to boot.
BACK_IN_FIRMWARE = (b"BdsDxe: failed to start", b"BdsDxe: No bootable option", b"UEFI Interactive Shell", b"Press any key")


def loader_says(*phrases):
    def check(seen):
        text = seen.text().replace("\n", "")
        back = any(mark in line.raw for line in seen.lines for mark in BACK_IN_FIRMWARE)
        return [expect(f"says '{p}'", p in text, "it does not") for p in phrases] + [
            expect("goes back to the firmware", back, "the firmware did not go on"),
            expect("the hypervisor is not started", "starting the hypervisor" not in text, "it is"),
        ]
    return check


def loader_scenario(name, *phrases, **more):
    """On QEMU with a processor model that Bochs is needed for, else on QEMU: it boots in a moment."""
    return Scenario(name, loader_says(*phrases), limit=60, **more)


INI_MISTAKES = {
    "unknown-key": ("[a]\nimage = ends.elf\nmemroy = 3M\n", "twofold.ini:3: unknown key 'memroy'"),
    "missing-module": ("[a]\nimage = gone.elf\n", "twofold.ini:2: there is no file 'gone.elf'"),
}


def text_file(name, content):
    def files(folder):
        (folder / name).write_bytes(content)
        return [folder / name]
    return files


def damaged_hypervisor(change):
    def make(folder):
        path = folder / "twofold.elf"
        path.write_bytes(change(image.HYPERVISOR.read_bytes()))
        return path
    return make


def bochs_loader(name, *phrases, **more):
    return loader_scenario(name, *phrases, settings=[guest("ends")], files=guest_files("ends"), **more)


# --- other processors, and features done without -------------------------------------------------------------------

OLDER = ["exits", "touch", "churn"]


def older_vms():
    return [guest(n, ("ept_page", "2m"), ("memory", "128M")) for n in OLDER + ["checks"]] + \
        [("mbinfo", [("image", "mbinfo.elf")]),
         ("loop", [("image", "loop.elf"), ("args", "how=exits"), ("time_limit", "300ms")])]


def older_files(folder):
    return [GUESTS / f"{n}.elf" for n in OLDER + ["checks", "mbinfo", "loop"]]


def check_older(*phrases, unrestricted=True):
    def check(seen):
        results = [ends_as(seen, n, "exit", 1) for n in OLDER + ["checks"]]
        if unrestricted:
            results.append(ends_as(seen, "mbinfo", "exit", 1))
        else:
            results.append(ends_as(seen, "mbinfo", "stopped", phrase="needs the VT-x feature 'unrestricted guest'"))
        results.append(ends_as(seen, "loop", "timeout"))
        return results + [has(seen, p) for p in phrases]
    return check


FALL_BACKS = "vpid preemption_timer unrestricted_guest 1g_pages 2m_pages monitor_trap_flag smep smap x2apic pmu" \
    " tpr_shadow apic_access virtual_x2apic apic_registers virtual_interrupts"


def check_fall_backs(seen):
    """Beside the rest: the local APIC's timer stands in for the preemption timer, and the guards around guests are on."""
    results = check_older(*(f"settings: without {f}" for f in FALL_BACKS.split()), "SMEP off, SMAP off", "apic: xAPIC",
                          "EPT pages up to 4k", "guards of processor 0: branch history overwritten, return stack filled, one call at each exit, VERW",
                          unrestricted=False)(seen)
    stats = next((s for s in seen.records("stats") if s["vm"] == "checks"), {"exits_by": {}})
    results += no_counters(seen, "not used: the settings do without")
    interrupts = stats["exits_by"].get("external_interrupt", 0)
    return results + [expect("the local APIC's timer interrupts a guest", interrupts > 100, f"{interrupts} times")]


# Faults of the hypervisor's own: what the panic must say, and a function of its back trace.
SELF_TESTS = {
    "panic": ("PANIC: self test", "selftest_commit+"),
    "null": ("#PF page fault), error code 0x2", "selftest_commit+"),
    "write_text": ("#PF page fault), error code 0x3", "selftest_commit+"),
    "write_rodata": ("#PF page fault), error code 0x3", "selftest_commit+"),
    "execute_data": ("#PF page fault), error code 0x11", "main_on_own_stack+"),
    "stack_overflow": ("#DF double fault)", "overflow_stack+"),
    "stack_smash": ("PANIC: stack smashed", "smash_stack+"),
}


NOT_MOVED = ("panic",)  # kaslr = off


def check_self_test(name):
    def check(seen):
        story, function = SELF_TESTS[name]
        slide = re.search(r"addresses are 0x(\w+) above those of twofold.elf", seen.text())
        moved = slide and int(slide[1], 16) % 4096 == 0 and (int(slide[1], 16) > 0) != (name in NOT_MOVED)
        return [ended(seen, 2), has(seen, story), has(seen, function),
                expect("the hypervisor lies where the settings say", moved, f"it says {slide and slide[0]}")]
    return check


# --- the machine's processors, without guests ------------------------------------------------------------------------

LINES = 20  # that each processor writes while all others do


def processors_settings(at_end, more=""):
    return f"[twofold]\nat_end = {at_end}\nself_test = processors\n{more}[ends]\nimage = ends.elf\n"


def trespasses(seen, processor, count):
    """All that the hypervisor's tables forbid was tried: six accesses at each stack's guard page, among others."""
    found = re.search(rf"self test: processor {processor} has tried (\d+) accesses that are forbidden", seen.text())
    least = 6 * (5 + 4 * (count - 1))  # each processor has four stacks, the first one its boot stack too
    return expect(f"processor {processor} keeps to its page tables", found and int(found[1]) > least,
                  f"it tries {found and found[1]}")


def check_processors(count, status, *phrases):
    """All come, are woken by kicks and timers, and write whole lines; then the machine ends by itself."""
    def check(seen):
        said = sorted(re.findall(r"^twofold: self test: (processor \d+ says line \d+) of 20$", seen.text(), re.M))
        wanted = sorted(f"processor {p} says line {n}" for p in range(count) for n in range(LINES))
        results = [ended(seen, 0), *(has(seen, p) for p in phrases), has(seen, f"{count} used"),
                   has(seen, f"self test: {count} processors, all well"),
                   *(trespasses(seen, processor, count) for processor in range(count)),
                   expect("each line of each processor is whole", said == wanted, f"{len(said)} of {len(wanted)} are"),
                   expect("the machine is off", seen.status == status and not seen.timed_out, f"status {seen.status}")]
        if count > 1:
            results.append(has(seen, "the TSCs of all processors agree"))
        return results
    return check


def check_other_panics(seen):
    """The first processor has the console and waits; the two between sleep."""
    text = seen.text()
    return [ended(seen, 2), has(seen, "#PF page fault), error code 0x2"), has(seen, "on processor 3, APIC id 3"),
            expect("its back trace", "selftest_of_others+" in text, "is not there"),
            expect("where the first one was", re.search(r"processor 0: at \w+ \w+\+0x", text), "is not told"),
            expect("where those were that slept", len(re.findall(r"processor [12]: at \w+ trap_wait\+0x", text)) == 2,
                   "is not told")]


EDU = "edu,dma_mask=0xffffffff"


def check_dma(seen, interrupts_off=1):
    """QEMU's edu copies where it may, and nowhere else, and interrupts only while it may; what was blocked is told with its
    device. Not the interrupt, which QEMU 7.2 keeps to itself."""
    blocked = re.findall(r"^twofold: dma: blocked: device 0000:00:(\w\w)\.0, (read of|write to) 0x\w+", seen.text(), re.M)
    return [ended(seen, 0), has(seen, "dma: 1 of 1 remapping units on"),
            has(seen, f"dma: {interrupts_off} of 1 keep interrupts of devices from the processors"),
            has(seen, "self test: a device reaches the memory that it may, and no other"),
            has(seen, "apic: unexpected interrupt, vector 0x61"),
            expect("with remapping on none comes, where the unit can", ("vector 0x62" in seen.text()) != bool(interrupts_off),
                   "the other one is seen"),
            expect("a read and two writes are told, of one device",
                   sorted(way for _, way in blocked if _ == blocked[0][0]) == ["read of", "write to", "write to"],
                   f"it tells {blocked}")]


def processors(name, machine, count, status, at_end, *phrases, more="", **keys):
    return Scenario(f"processors-{name}", check_processors(count, status, *phrases), processors_settings(at_end, more),
                    guest_files("ends"), machine=machine, processors=count, limit=240, **keys)


# --- the monitor ----------------------------------------------------------------------------------------------------


def monitor_vms():
    keys = [("memory", "16M"), ("ept_page", "4k")]
    return [("plain", [("image", "loop.elf"), ("paging", "nested"), *keys]),
            ("other", [("image", "loop.elf"), ("paging", "compound"), *keys]),
            ("work", [("image", "phases.elf"), ("args", "bursts=80"), ("memory", "128M"), ("ept_page", "4k"), ("trace", "0")]),
            ("gaps", [("image", "gaps.elf"), *keys])]


# What must be on the console, and what is typed then.
MONITOR_TALK = [
    (b"twofold: work: phases.elf", b"\x01l"),
    (b"    other: running", b"\x01cpause other\r"),
    (b"other is paused", b"list\r"),
    (b"    other: paused", b"stats o\r"),
    (b"other: paused, up ", b"dump other\r"),
    (b"other: virtual processor 0:", b"paging other shadow\r"),  # while it is paused
    (b"other: from now on paging shadow, policy pinned", b"resume other\r"),
    (b"other is running again", b"paging plain shadow\r"),
    (b"plain was made with paging = nested", b"paging work nested\r"),
    (b"work: from now on paging nested", b"stats work\r"),
    (b"work: paging nested, policy static; roots: 2 nested, 0 compound, 0 shadow", b"paging work shadow\r"),
    (b"work: from now on paging shadow", b"stats work\r"),
    (b"work: paging shadow, policy pinned; roots: 1 nested, 0 compound, 1 shadow", b"paging work compound\r"),
    (b"work: from now on paging compound, policy cost", b"policy work threshold\r"),
    (b"work: from now on paging compound, policy threshold", b"set work demote_writes 5\r"),
    (b"work: from now on paging compound, policy threshold", b"map work\r"),
    (b"work: regions of the root that runs:", b"stats other\r"),
    (b"other: paging shadow, policy pinned; roots: ", b"reset other\r"),
    (b"twofold: other: loop.elf", b""),
    (b"looping by jump", b"attach other\rend plain\r"),
    (b"plain: ended from the console", b"help\r"),
    (b"KEY is one of switch_level", b"end gaps\r"),
    (b"gaps: ended from the console", b"\r\x01n\x01cend other\r"),
    (b"other: ended from the console", b""),  # now the processor is work's alone
    (b"result bench=phases phase=steady", b""),
]

# Ticks of Bochs' clock, 50 million a second. `help` takes the UART some 15 million; other VMs' slices are 250,000.
LONGEST_GAP = 6_000_000


def check_monitor(seen):
    text = seen.text()
    results = []
    at = 0
    for phrase, _ in MONITOR_TALK:
        found = text.find(phrase.decode(), at)
        results.append(expect(f"then says '{phrase.decode()}'", found >= 0, "it does not"))
        at = max(at, found)
    results += [ends_as(seen, "work", "exit", 1), ends_as(seen, "plain", "ended"), ended(seen, 1)]
    ends = [r["end"] for r in seen.records("vm") if r["name"] == "other"]
    results.append(expect("other is reset and then ended", ends == ["reset", "ended"], f"it is {ends}"))
    bench = [r for r in seen.records("bench") if r["vm"] == "work" and r["phase"] == "steady"]
    results.append(expect("what work reads is right while its paging changes", bench and all(r["ok"] for r in bench),
                          f"{bench}"))
    gaps = [int(n) for n in re.findall(rb"longest gap (\d+)", seen.guest_bytes("gaps"))]
    results.append(expect("a long answer does not keep the guests waiting", gaps and max(gaps) < LONGEST_GAP, f"{gaps}"))
    typed = seen.guest_bytes("twofold").decode()
    results.append(expect("the line is echoed behind the prompt", "twofold> pause other\ntwofold> list\n" in typed, typed))
    return results


def check_without_ept(seen):
    return [ended(seen, 3), has(seen, "lacks a control that Twofold needs: EPT")]


def older(name, *phrases, unrestricted=True, **more):
    return Scenario(name, check_older(*phrases, unrestricted=unrestricted), older_vms(), older_files, limit=300, **more)


def suite(kind, page):
    """All of the suite in one way of paging, with EPT pages up to `page`."""
    check, keys = {
        "nested": (check_suite(page), ()),
        "compound": (check_compound, ("compound",)),
        "shadow": (check_shadow, ("shadow", ("unsync_writes", "1" if page == "2m" else "3"))),
        "stress": (check_stress, ("compound", ("stress", "25"))),
    }[kind]
    return Scenario(f"suite-{kind}-{page}", check, suite_vms(page, *keys), guest_files(*BENCHMARKS, "checks"), limit=900)


LONG = [suite("nested", "1g"), suite("nested", "4k"), suite("compound", "2m"), suite("shadow", "4k"), suite("stress", "2m"),
        older("sandy-bridge", cpu_model="corei7_sandy_bridge_2600k")]

ALL = [
    suite("nested", "2m"), suite("compound", "4k"), suite("shadow", "2m"), suite("stress", "4k"),
    Scenario("costs", check_costs, costs_vms(), guest_files("tables", "touch", "mixed", "phases", "modes"), limit=300),
    older("lynnfield", "no unrestricted guest; going without", unrestricted=False,
          cpu_model="corei5_lynnfield_750"),
    Scenario("all-fall-backs", check_fall_backs, older_vms(), older_files, limit=300,
             globals=f"without = {FALL_BACKS}\nmitigations = all"),
    *(Scenario(f"self-test-{n.replace('_', '-')}", check_self_test(n), [guest("ends")], guest_files("ends"), machine="qemu",
               globals=f"self_test = {n}\nkaslr = {'off' if n in NOT_MOVED else 'on'}", limit=60) for n in SELF_TESTS),
    # QEMU's own emulation has xAPIC and no TSC deadline, and ACPI; Bochs has both, and no ACPI tables.
    processors("qemu", "qemu", 4, 0, "poweroff", "4 in the machine, 4 used", "apic: xAPIC", "acpi: soft-off yes"),
    processors("qemu-1", "qemu", 1, 0, "poweroff", "1 in the machine, 1 used"),
    processors("bochs", "bochs", 4, 0, "bochs", "apic: x2APIC", "TSC deadline", "SMEP on, SMAP on", "supervisor shadow stacks on",
               "NMI while the hypervisor ran; ignored",
               cpu_model="tigerlake"),
    processors("bochs-xapic", "bochs", 2, 0, "bochs", "apic: xAPIC", more="without = x2apic\n"),
    Scenario("self-test-other-panics", check_other_panics, [guest("ends")], guest_files("ends"), processors=4,
             globals="self_test = other_panics", limit=240),
    *(Scenario(name, lambda seen, off=off: check_dma(seen, off), processors_settings("poweroff").replace("processors", "dma"),
               guest_files("ends"), machine="qemu", memory=1024, limit=120, devices=[f"intel-iommu,intremap={remap}", EDU])
      for name, remap, off in (("dma", "on", 1), ("dma-memory-alone", "off", 0))),
    Scenario("monitor", check_monitor, monitor_vms(), guest_files("loop", "phases", "gaps"), globals="run = together\n",
             answers=MONITOR_TALK, limit=400),
    Scenario("without-ept", check_without_ept, [guest("ends")], guest_files("ends"), globals="without = ept"),
    # With shadow stacks, and the guards that have MSRs.
    Scenario("ends", check_ends, ends_vms(), ends_files, cpu_model="tigerlake", globals="mitigations = all"),
    Scenario("bad-images", check_bad_images,
             [(n, [("image", f"{n}.elf")]) for n in BAD_IMAGES] + [guest("ends")], bad_image_files),
    loader_scenario("qemu-without-vmx", "no VT-x", machine="qemu", settings=[guest("ends")],
                    files=guest_files("ends")),
    bochs_loader("penryn-without-ept", "no EPT", cpu_model="core2_penryn_t9600"),
    bochs_loader("no-hypervisor", "twofold.elf, the hypervisor, is missing", hypervisor=None),
    bochs_loader("hypervisor-cut", "twofold.elf is truncated",
                 hypervisor=damaged_hypervisor(lambda b: b[:4096])),
    bochs_loader("hypervisor-no-elf", "is not an ELF64 file",
                 hypervisor=damaged_hypervisor(lambda b: b"\0" * len(b))),
    Scenario("no-settings", loader_says("twofold.ini is missing"), None, guest_files("ends"), machine="qemu", limit=60),
    *(loader_scenario(f"ini-{name}", phrase, machine="qemu", settings=text, files=guest_files("ends"))
      for name, (text, phrase) in INI_MISTAKES.items()),
]
