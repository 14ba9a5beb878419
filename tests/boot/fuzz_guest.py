# SPDX-License-Identifier: BSD-2-Clause
"""Boots of the fuzz guest (guest-tests/fuzz): random exits from a seed.

What the guest sees goes into its digest, which must be the same in each way of paging and each time. ALL is part of
the booted tests; LONG are more seeds, of more steps.
"""

import re

from scenarios import GUESTS, Scenario, ended, ends_as, expect

MODES = [("nested", "nested", []), ("shadow", "shadow", []), ("compound", "compound", []),
         ("forced", "compound", [("stress", "50"), ("ept_page", "2m")])]


def vms(seeds, steps, limit):
    return [(f"{name}-{seed}", [("image", "fuzz.elf"), ("args", f"seed={seed} steps={steps}"), ("memory", "32M"),
                                ("paging", paging), ("trace", "0"), ("time_limit", limit), *keys])
            for seed in seeds for name, paging, keys in MODES]


def digest_of(seen, vm):
    found = re.search(r"fuzz: seed=\d+ steps=\d+ exceptions=(\d+) instructions=(\d+) digest=(0x[0-9a-f]+)",
                      seen.guest_bytes(vm).decode("utf-8", "replace"))
    return found.groups() if found else None


def check(seeds, steps):
    def look(seen):
        results = [ended(seen, 0)]
        for seed in seeds:
            results += [ends_as(seen, f"{name}-{seed}", "exit", 1) for name, _, _ in MODES]
            found = {name: digest_of(seen, f"{name}-{seed}") for name, _, _ in MODES}
            same = None not in found.values() and len(set(found.values())) == 1
            results.append(expect(f"seed {seed}: what the guest sees is the same in each way of paging", same, f"{found}"))
            exceptions, instructions, _ = found["nested"] or ("0", "0", "")
            results.append(expect(f"seed {seed}: it does something", int(exceptions) > steps // 4 and
                                  int(instructions) > steps // 4, f"{found}"))
        return results
    return look


def scenario(name, seeds, steps, limit):
    return Scenario(name, check(seeds, steps), vms(seeds, steps, "300s"), lambda folder: [GUESTS / "fuzz.elf"], limit=limit)


ALL = [scenario("fuzz-guest", [1], 3000, 300)]

LONG = [scenario(f"fuzz-guest-{first}", list(range(first, first + 8)), 20000, 3600) for first in (100, 200, 300, 400)]
