#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""scripts/bench-kvm without a machine: what a boot prints becomes records, results are kept, and what does not
belong together is refused. Prints "ok NAME" or "FAIL NAME: why" for each test."""

import importlib.machinery
import importlib.util
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))

from twofold import kvm  # noqa: E402


def load_script(name):
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


bench_kvm = load_script("bench-kvm")
RUN = kvm.Run("touch", "ept-4k")


def record(traced, ticks, exits, by=None, **more):
    return {"bench": "touch", "vm": RUN.name, "phase": "steady", "paging": "kvm-ept", "ept_page": "4k", "args": "",
            "traced": traced, "ops": 100, "ticks": ticks, "exits": exits, "exits_by": by, "walk_refs": None,
            "walk_refs_derived": 24.0, "ok": True} | more


def vm_end(traced, status=1, end="exit"):
    return {"name": RUN.name, "traced": traced, "end": end, "status": status, "why": ""}


def lines(timed, counted, ends):
    """The console of a boot with one run."""
    yield b"BdsDxe: starting Boot0001"
    yield b'@kvm {"release": "6.1.0-1-cloud-amd64", "tdp_mmu": "Y"}'
    yield b"twofold-kvm: running touch.kvm-ept.4k"
    yield b"touch.kvm-ept.4k| result bench=touch phase=steady ops=100 ticks=2500 ok=1"
    for r in (timed, counted):
        yield b"@bench " + json.dumps(r).encode()
    for e in ends:
        yield b"@vm " + json.dumps(e).encode()
    yield b'@done {"name": "touch.kvm-ept.4k"}'
    yield b'@end {"status": 0}'


def boot_of(*args):
    boot = kvm.Boot()
    done = [name for line in lines(*args) if (name := boot.feed(line))]
    return boot, done


GOOD = (record(False, 2500, 3), record(True, 9000, 5, {"io": 2, "ept_violation": 3}), [vm_end(False), vm_end(True)])


def refused(records):
    try:
        kvm.merge(records)
    except ValueError:
        return True
    return False


# --- the tests: each gives nothing, or what is wrong --------------------------------------------------------------


def boot_is_read():
    boot, done = boot_of(*GOOD)
    if done != ["touch.kvm-ept.4k"] or not boot.ended or boot.system["tdp_mmu"] != "Y":
        return f"{done}, {boot.ended}, {boot.system}"
    if boot.state != "running touch.kvm-ept.4k":
        return boot.state
    return boot.problems(RUN.name)


def ticks_and_exits_come_from_their_own_run():
    merged = kvm.merge(boot_of(*GOOD)[0].records[RUN.name])
    if len(merged) != 1:
        return f"{len(merged)} records"
    found = {k: merged[0].get(k) for k in ("ticks", "exits", "exits_by", "exits_untraced")}
    wanted = {"ticks": 2500, "exits": 5, "exits_by": {"io": 2, "ept_violation": 3}, "exits_untraced": 3}
    return None if found == wanted and "traced" not in merged[0] else found


def runs_that_differ_are_not_merged():
    timed, counted, _ = GOOD
    if not refused([timed]):
        return "one run alone"
    if not refused([timed, counted | {"ops": 101}]):
        return "other operations"
    return None if refused([timed, counted | {"exits": 6}]) else "a histogram that lacks an exit"


def bad_ends_are_told():
    for ends in ([vm_end(False)], [vm_end(False), vm_end(True, status=3)], [vm_end(False, -1, "timeout"), vm_end(True)]):
        if not boot_of(GOOD[0], GOOD[1], ends)[0].problems(RUN.name):
            return f"nothing said of {ends}"
    bad = boot_of(GOOD[0] | {"ok": False}, GOOD[1], GOOD[2])[0]
    return None if bad.problems(RUN.name) else "nothing said of a record that is not ok"


def results_are_kept_for_the_same_content_only():
    mark = {"line": RUN.line(), "guest": "1"}
    with tempfile.TemporaryDirectory() as folder:
        bench_kvm.KEPT = pathlib.Path(folder)
        if bench_kvm.kept(RUN, mark) is not None:
            return "a result of nothing"
        if problems := bench_kvm.keep(RUN, mark, boot_of(*GOOD)[0]):
            return problems
        if bench_kvm.kept(RUN, mark)["records"][0]["ticks"] != 2500:
            return "another result"
        if bench_kvm.kept(RUN, mark | {"guest": "2"}) is not None:
            return "a result of another guest"
        failed = boot_of(GOOD[0], GOOD[1], [vm_end(False), vm_end(True, status=3)])[0]
        if not bench_kvm.keep(RUN, mark | {"guest": "3"}, failed) or bench_kvm.kept(RUN, mark | {"guest": "3"}):
            return "a failed run was kept"
    return None


def every_run_is_done_once():
    runs = [kvm.Run(bench, way) for way in kvm.WAYS for bench in bench_kvm.BENCHMARKS]
    for jobs in (1, 2, 3, 50):
        shares = bench_kvm.share_out(runs, jobs)
        if sorted(r.name for s in shares for r in s) != sorted(r.name for r in runs) or not all(shares):
            return f"{jobs} jobs"
    return None if len({r.name for r in runs}) == len(runs) else "two runs of one name"


def runs_are_written_as_the_vmm_reads_them():
    line = kvm.Run("tables", "shadow", "rounds=20").line()
    return None if line == f"0 2m 128 {kvm.SECONDS} tables.elf rounds=20" else line


def table_has_both_sides():
    theirs = kvm.merge([GOOD[0], GOOD[1]])
    ours = [record(None, 2600, 1, {"vmcall": 1}, paging="nested", walk_refs=24.0),
            record(None, 1, 0, {}, paging="nested", phase="warmup"), record(None, 1, 0, {}, bench="other")]
    rows = kvm.table(ours, theirs)
    if len(rows) != 3 or "nested" not in rows[1] or "kvm-ept" not in rows[2]:
        return rows
    return None if rows[2].split()[6:9] == ["25.00", "0.05", "24.00"] and "ept_violation 0.03" in rows[2] else rows[2]


TESTS = [boot_is_read, ticks_and_exits_come_from_their_own_run, runs_that_differ_are_not_merged, bad_ends_are_told,
         results_are_kept_for_the_same_content_only, every_run_is_done_once, runs_are_written_as_the_vmm_reads_them,
         table_has_both_sides]


def main():
    failed = 0
    for test in TESTS:
        wrong = test()
        print(f"FAIL {test.__name__}: {wrong}" if wrong else f"ok {test.__name__}", flush=True)
        failed += bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
