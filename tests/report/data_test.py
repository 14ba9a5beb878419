#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the report makes of records: reading and its errors, rows over native, break-evens, maps of regions."""

import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from checks import DATA, ROOT, equal, expect, raises, run, tests_of  # noqa: E402
from twofold import model, page, regions, results, table  # noqa: E402

SYNTHETIC = DATA / "synthetic"
MIB_2 = 1 << 21
BASE = 0x8000000000


def in_file(text, read):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bench.jsonl"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path)


def gathered(folder=SYNTHETIC):
    return page.gather(folder, model.load(), model.load_all(), {})


def row_of(rows, **wanted):
    found = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    equal(len(found), 1, f"rows of {wanted}")
    return found[0]


GOOD = '{"bench": "a", "phase": "steady", "paging": "nested", "ept_page": "2m", "ops": 1, "ticks": 2, "exits": 0}\n'


def test_a_missing_file_is_no_error():
    equal(results.read(pathlib.Path("/nowhere/bench.jsonl"), results.BENCH), None)


def test_a_broken_line_is_named():
    for text, wanted in [
        (GOOD + "\n" + '{"bench": \n', "bench.jsonl, line 3: not JSON"),
        (GOOD + "[1]\n", "bench.jsonl, line 2: not a JSON object"),
        (GOOD + '{"bench": "a"}\n', "line 2: phase is missing"),
        (GOOD.replace('"ticks": 2', '"ticks": "2"'), 'line 1: ticks is "2", not a whole number'),
        (GOOD.replace('"ticks": 2', '"ticks": true'), "line 1: ticks is true, not a whole number"),
        (GOOD.replace('"ops": 1', '"ops": 0'), "a: ops is 0"),
        (GOOD.encode() + b"\xff\n", "line 2: not UTF-8"),
    ]:
        raises(results.ResultError, wanted, in_file, text, results.read_bench)
    equal(len(in_file(GOOD + "\n" + GOOD, results.read_bench)), 2, "empty lines are passed over")


def test_a_root_event_must_say_its_state():
    raises(results.ResultError, "whose detail is 7",
           in_file, '{"vm": "v", "time": 1, "event": "root", "detail": 7}\n', results.read_trace)


def test_the_program_says_file_and_line():
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "bench.jsonl").write_text(GOOD + "oops\n")
        run_ = subprocess.run([sys.executable, ROOT / "scripts/report", "--data", folder], capture_output=True, text=True)
        equal(run_.returncode, 1, "status")
        expect("bench.jsonl, line 2: not JSON" in run_.stderr, run_.stderr)
        expect(not (pathlib.Path(folder) / "report.html").exists(), "a page all the same")


def test_rows_are_over_native():
    row = row_of(gathered()["bench"], bench="grow", size=1024, phase="steady", paging="nested", ept_page="4k")
    # Native: 10 + 4 * 16; nested: 10 + 24 * 16.
    equal(row["model"], {"instructions": 10.0, "exits": 0.0, "walks": 384.0, "total": 394.0})
    equal(round(row["overhead"], 9), round(394 / 74 - 1, 9))
    equal(row["relative_to"], {"paging": "native", "ept_page": None})


def test_without_native_nothing_is_over_it():
    def without(path):
        path.write_text("".join(line for line in open(DATA / "bochs/bench.jsonl") if '"native", "ept_page"' not in line))
        return gathered(path.parent)["bench"]

    rows = in_file("", without)
    expect(rows and all(r["overhead"] is None for r in rows), "an overhead over nothing")
    row = row_of(rows, bench="mixed", phase="steady", paging="nested", ept_page="4k")
    equal((row["relative"], row["relative_to"]["paging"]), (1.0, "nested"))


def test_cycles_are_not_taken_for_instructions():
    def on_hardware(path):
        path.write_text(GOOD.replace("}", ', "machine": "kvm", "touches": 5, "walk_refs": 4.0}'))
        return page.gather(path.parent, model.load(), model.load_all(), {})["bench"]

    equal([(r["model"], r["relative"]) for r in in_file(GOOD, on_hardware)], [(None, None)])


def test_counters_stand_in_the_table():
    record = {"bench": "a", "size": 1, "phase": "steady", "paging": "nested", "ept_page": "2m", "ops": 4, "exits": 2, "touches": 4,
              "walk_refs": 19.0, "ok": True}
    emulated = {**record, "machine": "bochs", "instructions": 40, "ticks": 40, "cycles": None, "host_ticks": 10, "pmu": None}
    real = {**record, "machine": "hardware", "instructions": None, "ticks": 50, "cycles": 50, "host_ticks": 12,
            "pmu": {"walk_cycles": 22, "tlb_misses": 6}}
    head, line, note = table.steady([emulated], model.load()).splitlines()
    equal(line.split()[-4:], ["2.50", "n/a", "n/a", "n/a"])
    expect(note.startswith("cycles, walk cycles, TLB misses: not available on Bochs"), note)
    head, line = table.steady([real], model.load()).splitlines()
    equal(line.split()[-4:], ["3.00", "12.50", "5.50", "1.50"])
    equal(len(head), len(line), "the columns' ends")


def test_break_evens_are_exact():
    found = [s for s in gathered()["sensitivity"] if (s["bench"], s["size"], s["ept_page"]) == ("grow", 1024, "2m")]
    equal([s["parameter"] for s in found], ["cycles_per_exit", "cycles_per_reference"])
    # Compound 12 + e/8 + 9 r, nested 10 + 19 r, shadow 20 + e/4 + 4 r, with r = 16 and with e = 1500.
    equal(found[0]["wins"], {"low": (12 + 144 - 20 - 64) * 8.0, "high": (10 + 304 - 12 - 144) * 8.0})
    equal(found[1]["wins"], {"low": (12 + 187.5 - 10) / 10, "high": (20 + 375 - 12 - 187.5) / 5})


def test_steps_are_no_benchmarks():
    data = gathered()
    expect(not any(s["bench"] == "plain.step" for s in data["sensitivity"]), "a step among the benchmarks")
    equal(row_of(data["bench"], bench="plain.step", paging="nested")["whole"], False)
    equal({b for s in data["summary"] for b in s["benchmarks"]}, {"grow", "plain"})


def test_the_summary_compares_each_benchmark_once():
    found = next(s for s in gathered()["summary"] if s["ept_page"] == "2m")
    # grow, its largest size: compound 32 + 187.5 + 144, nested 30 + 304, shadow 60 + 375 + 64; plain: 69, 309, 69.
    compound, nested, shadow = (363.5, 69), (334, 309), (499, 69)
    ratio = lambda a, b: (a[0] / b[0] * a[1] / b[1]) ** 0.5  # noqa: E731
    equal(round(found["to_nested"], 9), round(ratio(compound, nested), 9))
    equal(round(found["to_shadow"], 9), round(ratio(compound, shadow), 9))
    equal(found["single"], "shadow" if ratio(compound, shadow) > ratio(compound, nested) else "nested")
    equal(found["not_worse"], ["plain"])
    equal(round(found["to_best_each"], 9), round(ratio(compound, (334, 69)), 9))


def test_the_size_with_most_modes_stands_for_a_benchmark():
    records = [{"bench": "a", "phase": "steady", "paging": p, "ept_page": e, "size": s}
               for p, e, s in (("nested", "4k", 10), ("nested", "2m", 10), ("nested", "2m", 90), ("nested", "2m", 50))]
    equal(page.usual_sizes(records), {"a": 10})
    equal(page.usual_sizes(records[2:]), {"a": 90}, "of several, the first")
    equal(page.usual_sizes([{**records[0], "size": None}]), {"a": None})


def test_the_map_follows_the_events():
    found = regions.maps(results.read_trace(SYNTHETIC / "trace.jsonl"))
    equal([m["vm"] for m in found], ["phases.compound.2m"])
    first, second = found[0]["rows"]
    equal(first["va"], f"{BASE:#014x}")
    equal(first["spans"], [
        (0, 100, "root"), (100, 110, "unused"), (110, 200, "shadow"), (200, 400, "nested"), (400, 700, "shadow"),
        (700, 800, "nested"), (800, 810, "unused"), (810, 900, "shadow"), (900, 1000, "root")])
    equal(second["spans"], [
        (0, 100, "root"), (100, 120, "unused"), (120, 500, "shadow"), (500, 600, "unsync"), (600, 700, "shadow"),
        (700, 800, "nested"), (800, 900, "unused"), (900, 1000, "root")])
    equal(found[0]["root"], [(0, 100, "nested"), (100, 450, "compound"), (450, 900, "shadow"), (900, 1000, "nested")])
    equal((found[0]["end"], found[0]["complete"], found[0]["other_roots"]), (1000, True, 0))


def test_a_real_map_covers_all_time():
    maps = {m["vm"]: m for m in gathered(DATA / "bochs")["maps"]}
    expect({"phases.compound.2m", "mixed.compound.2m"} <= set(maps), f"maps of {sorted(maps)}")
    for name, m in maps.items():
        for row in (*m["rows"], {"va": "root", "spans": m["root"]}):
            equal(row["spans"][0][0], 0, f"{name} {row['va']} begins")
            equal(row["spans"][-1][1], m["end"], f"{name} {row['va']} ends")
            for (_, to, state), (since, _, other) in zip(row["spans"], row["spans"][1:]):
                expect(to == since and state != other, f"{name} {row['va']}: a gap or a repeat at {to}")
    states = {state for row in maps["phases.compound.2m"]["rows"] for _, _, state in row["spans"]}
    expect({"shadow", "nested"} <= states, f"phases was handled {states}")
    # mixed: what changes is one region, in another GiB than what stays.
    last = {int(row["va"], 16): row["spans"][-1][2] for row in maps["mixed.compound.2m"]["rows"]}
    equal({va for va, state in last.items() if state == "nested"}, {BASE + (1 << 30)})
    equal(sum(state == "shadow" for state in last.values()), 16)


def test_events_that_are_lost_are_told():
    events = [e for e in results.read_trace(SYNTHETIC / "trace.jsonl") if e["time"] >= 200]
    equal(regions.maps(events)[0]["complete"], False)


def test_the_page_asks_for_nothing():
    text = page.render(gathered())
    own = text[:text.index("https://d3js.org")] + text[text.index('"use strict";\n\nconst data'):]
    for bad in ("src=", "@import", "url(http", "<link rel=\"stylesheet"):
        expect(bad not in own, f"the page holds {bad}")
    expect("default-src 'none'" in text, "no policy")


def test_data_cannot_end_its_element():
    equal(page.embedded({"a": "</script><b>"}), '{"a":"\\u003c/script>\\u003cb>"}')


if __name__ == "__main__":
    sys.exit(0 if run(tests_of(globals()), "report") else 3)
