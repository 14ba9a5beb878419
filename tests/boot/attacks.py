# SPDX-License-Identifier: BSD-2-Clause
"""Boots of guests that attack the hypervisor, each other's memory and the truth of the machine, beside victims that
must not notice (docs/security.md, guest-tests/attacks/).

ALL is part of the booted tests; LONG has more rounds and other seeds.
"""

import re

from scenarios import GUESTS, Scenario, ended, ends_as, expect

CASES = ["msrs", "ports", "cpuid", "undefined", "hypercalls", "windows", "beyond", "recursive", "all-levels", "storm", "pool",
         "delivery", "live-delivery", "self-modifying", "decoder", "decoder-no-ram", "virtio", "apic", "ioapic",
         "racing-tables", "racing-code"]
RACES = ["racing-tables", "racing-code"]  # need another processor

# An attack that ends its own VM: how the VM ends, and a part of the reason.
ENDS = {
    "triple": ("stopped", "triple fault"),
    "double": ("stopped", "triple fault"),
    "cr3-no-ram": ("stopped", "triple fault"),
    "cr3-window": ("stopped", "triple fault"),
    "fetch": ("stopped", "instruction fetch from guest-physical 0xe0000000"),
    "idt-no-ram": ("stopped", ""),
    "stack-no-ram": ("stopped", "an exception's delivery used guest-physical"),
    "device-sse": ("stopped", "by an instruction that is not emulated"),
    "flood": ("timeout", ""),
    "debug-loop": ("timeout", ""),
    "halt": ("stopped", "HLT with nothing that could wake"),
    "init": ("reset", ""),
}

# Of paging: nothing; all in nodes; a policy that decides; tables that stay in nodes whatever happens to them; changes of
# everything at random; memory for fewer nodes than tables, in both formats; and for fewer than an instruction may need.
WAYS = {
    "nested": [("paging", "nested")],
    "shadow": [("paging", "shadow")],
    "compound": [("paging", "compound")],
    "static": [("paging", "compound"), ("policy", "static")],
    "stress": [("paging", "compound"), ("stress", "20")],
    "little": [("paging", "compound"), ("policy", "static"), ("shadow_memory", "512K"), ("interval", "100us")],
    "little-shadow": [("paging", "shadow"), ("shadow_memory", "512K")],
    "hardly": [("paging", "shadow"), ("shadow_memory", "64K")],
}

# In ways that do not run everything: what they are for, and how many rounds that takes.
SMALL = {"stress": ("storm", 4), "little": ("pool", 4), "little-shadow": ("pool", 2), "hardly": ("pool", 2)}
FULL = ("little", "little-shadow")  # nodes are given up for others

# victim.c's numbers, computed here on their own.
VICTIM_MARK = 0x51C7 << 48
VALUE_MASK = (1 << 48) - 1
WORD_MASK = (1 << 64) - 1
WORDS_A_PAGE = 512


def victim_checksum(seed, pages, passes):
    """What victim.c must print after `passes` passes."""
    checksum, value = 0, seed
    for _ in range(pages * WORDS_A_PAGE):
        checksum = (checksum * 0x100000001B3 + (VICTIM_MARK | ((value + passes) & VALUE_MASK))) & WORD_MASK
        value = (value * 6364136223846793005 + 1442695040888963407) & WORD_MASK
    return checksum


def attacker(name, way, args, *keys):
    return name, [("image", "attacks.elf"), ("args", args), ("memory", "16M"), ("disk", "loop.elf"), ("trace", "0"),
                  ("time_limit", "900s"), *WAYS[way], *keys]


def victim(name, way, ms, seed, pages=64):
    return name, [("image", "victim.elf"), ("args", f"ms={ms} seed={seed} pages={pages}"), ("memory", "8M"), ("trace", "0"),
                  ("time_limit", "900s"), *WAYS[way]]


def end_vms():
    """A VM for each attack that ends its own. Those that go on for ever have less time: they take all of it."""
    return [(f"end-{how}", [("image", "attacks.elf"), ("args", f"end={how}"), ("memory", "8M"), ("trace", "0"),
                            ("time_limit", "2s" if end == "timeout" else "60s"),
                            *WAYS["nested" if how == "cr3-no-ram" else "compound"]])
            for how, (end, _) in ENDS.items()]


def text_of(seen, vm):
    return seen.guest_bytes(vm).decode("utf-8", "replace")


def check_attacker(seen, vm, cases, skipped):
    """It ended by itself, and each case passed: what was tried gave what a real machine gives."""
    text = text_of(seen, vm)
    tried = dict(re.findall(r"^attack (\S+) (ok tries=\d+|skipped)", text, re.M))
    failed = [line for line in text.splitlines() if "FAIL" in line]
    results = [ends_as(seen, vm, "exit", 1)]
    for name in cases:
        wanted = "skipped" if name in skipped else "ok"
        results.append(expect(f"{vm}: {name} ({wanted})", tried.get(name, "").startswith(wanted),
                              "; ".join(failed) or tried.get(name, "it has no result")))
    return results


def check_victim(seen, vm, seed, pages=64):
    """It went on to its end, and found its memory as it had left it; the checksum is computed here again."""
    found = re.search(r"^victim passes=(\d+) checksum=0x([0-9a-f]+)\r?$", text_of(seen, vm), re.M)
    passes = int(found[1]) if found else 0
    right = found and int(found[2], 16) == victim_checksum(seed, pages, passes)
    return [ends_as(seen, vm, "exit", 1),
            expect(f"{vm}: its memory is as it left it", right, f"it says {text_of(seen, vm)[-200:]!r}"),
            expect(f"{vm}: it got on with its work", passes >= 10, f"{passes} passes")]


def outlasts(seen, vm, others):
    """The victim was there while the attackers were: its record comes after theirs."""
    order = [r["name"] for r in seen.records("vm")]
    late = [o for o in others if vm not in order or o not in order or order.index(o) > order.index(vm)]
    return expect(f"{vm} is there to the end", not late, f"these end after it: {late}")


def attacks(name, ways, victims, more="seed=1", cpus=1, processors=1, with_ends=False, limit=600, first=None):
    """A boot of attackers in `ways` of paging, with `victims` (way: for how many ms) beside them.

    `first`: the case that those begin with which are not the first: what does not depend on the way of paging comes before.
    """
    attackers = [attacker(f"attack-{way}", way, f"{more} from={first}" if first and n else more, ("cpus", cpus))
                 for n, way in enumerate(ways)]
    beside = [victim(f"victim-{way}", way, ms, seed) for seed, (way, ms) in enumerate(victims.items(), 1)]
    small = [attacker(f"attack-{way}", way, f"{more} rounds={rounds} only={case}")
             for way, (case, rounds) in SMALL.items() if way not in ways]
    skipped = RACES if cpus == 1 else ()

    def check(seen):
        results = []
        for n, (vm, _) in enumerate(attackers):
            results += check_attacker(seen, vm, CASES[CASES.index(first):] if first and n else CASES, skipped)
        for vm, _ in small:
            results += check_attacker(seen, vm, [SMALL[vm.removeprefix("attack-")][0]], ())
        stats = {r["vm"]: r for r in seen.records("stats")}
        for vm in (f"attack-{way}" for way in FULL):
            given_up = stats.get(vm, {}).get("evictions", 0)
            results.append(expect(f"{vm}: nodes take each other's place", given_up > 100, f"{given_up} evictions"))
        for seed, way in enumerate(victims, 1):
            results += check_victim(seen, f"victim-{way}", seed)
            results.append(outlasts(seen, f"victim-{way}", [vm for vm, _ in attackers + small]))
        for how, (end, phrase) in ENDS.items() if with_ends else ():
            results.append(ends_as(seen, f"end-{how}", end, phrase=phrase))
        return results + [ended(seen, 1 if with_ends else 0)]

    return Scenario(name, check, [*beside, *attackers, *small, *(end_vms() if with_ends else [])],
                    lambda folder: [GUESTS / f"{n}.elf" for n in ("attacks", "victim", "loop")], globals="run = together",
                    processors=processors, limit=limit)


def races(name, ways, victims, more="seed=1", processors=3, limit=600):
    """The cases of several processors, each attacker on as many of its own."""
    attackers = [attacker(f"race-{way}", way, f"{more} from={RACES[0]}", ("cpus", 3)) for way in ways]
    beside = [victim(f"victim-{way}", way, ms, seed) for seed, (way, ms) in enumerate(victims.items(), 1)]

    def check(seen):
        results = [ended(seen, 0)]
        for vm, _ in attackers:
            results += check_attacker(seen, vm, RACES, ())
        for seed, way in enumerate(victims, 1):
            results += check_victim(seen, f"victim-{way}", seed)
        return results

    return Scenario(name, check, [*beside, *attackers],
                    lambda folder: [GUESTS / f"{n}.elf" for n in ("attacks", "victim", "loop")], globals="run = together",
                    processors=processors, limit=limit)


def storms(name, ways, rounds=10):
    """Timers that are due again before their processor is back in its guest, on processors that keep each other slow."""
    attackers = [attacker(f"storm-{way}", way, f"only=apic rounds={rounds}") for way in ways]

    def check(seen):
        return [result for vm, _ in attackers for result in check_attacker(seen, vm, ["apic"], ())] + [ended(seen, 0)]

    return Scenario(name, check, attackers, lambda folder: [GUESTS / f"{n}.elf" for n in ("attacks", "loop")],
                    globals="run = together", processors=len(ways), limit=240)


ALL = [
    attacks("attacks", ["nested", "shadow", "compound", "static"], {"compound": 36000}, with_ends=True, first="windows",
            limit=300),
    races("attacks-races", ["compound"], {"shadow": 2000}, limit=300),
    storms("timer-storms", ["static", "compound"]),
]

LONG = [
    *(attacks(f"attacks-{seed}", list(WAYS), {"nested": 260000, "shadow": 260000, "compound": 260000},
              f"seed={seed} rounds=4", processors=2, limit=3600) for seed in (2, 3, 4)),
    *(races(f"attacks-races-{seed}", ["nested", "shadow", "compound", "static", "stress", "little"], {"compound": 60000},
            f"seed={seed} rounds=3", limit=3600) for seed in (2, 3)),
]
