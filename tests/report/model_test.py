#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""scripts/twofold/model.py: parts, overhead, break-even, and what a bad file is told."""

import pathlib
import sys
import tempfile
from fractions import Fraction

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from checks import equal, expect, raises, run, tests_of  # noqa: E402
from twofold import model  # noqa: E402

GOOD = """[model]
processor = one
[one]
title = One
cycles_per_instruction = 0.5
cycles_per_exit = 1000
cycles_per_reference = 10
[two]
title = Two
cycles_per_instruction = 1
cycles_per_exit = 2000
cycles_per_reference = 20
"""


def file_of(text):
    with tempfile.NamedTemporaryFile("w", suffix=".ini", delete=False) as f:
        f.write(text)
    return pathlib.Path(f.name)


def loaded(text, processor=None):
    path = file_of(text)
    try:
        return model.load(path, processor)
    finally:
        path.unlink()


def record(ticks, exits, refs, ops=100, touches=100, **more):
    return {"ops": ops, "ticks": ticks, "exits": exits, "walk_refs": refs, "touches": touches, **more}


def line(base, slope):
    return model.Line(Fraction(base), Fraction(slope))


def test_the_projects_own_file_loads():
    names = [m.processor for m in model.load_all()]
    equal(names[0], "skylake", "the default")
    expect({"haswell", "sandybridge"} <= set(names), f"it has {names}")
    for m in model.load_all():
        expect(all(text for _, text in m.sources), f"{m.processor}: a value without its source")
    expect("1500 a VM exit" in model.load().describe(), model.load().describe())


def test_parts_are_per_operation():
    parts = loaded(GOOD).cycles(record(ticks=3000, exits=50, refs=24.0))
    equal((parts.instructions, parts.exits, parts.walks), (15, 500, 240))
    equal(parts.total, 755)


def test_counts_and_records_agree():
    m = loaded(GOOD)
    equal(m.of_counts(30, 0.5, 24), m.cycles(record(ticks=3000, exits=50, refs=24.0)))
    equal(m.of_counts(30, 0, None).total, None)


def test_the_mean_over_time_goes_before_the_audit():
    equal(loaded(GOOD).cycles(record(0, 0, 4.0, walk_refs_mean=4.38)).walks, Fraction("43.8"))
    equal(loaded(GOOD).cycles(record(0, 0, 4.0, walk_refs_mean=None)).walks, 40)


def test_what_is_not_known_stays_unknown():
    m = loaded(GOOD)
    unknown = m.cycles(record(100, 0, None))
    equal((unknown.walks, unknown.total), (None, None))
    equal(m.cycles(record(100, 0, None, touches=0)).total, Fraction(1, 2), "no misses, no walks")
    equal(m.line(record(100, 0, None), "cycles_per_exit"), None)
    equal(model.overhead(unknown, m.cycles(record(1, 0, 4.0))), None)
    equal(model.overhead(m.cycles(record(1, 0, 4.0)), None), None)


def test_overhead_is_over_native():
    m = loaded(GOOD)
    native, nested = m.cycles(record(1000, 0, 4.0)), m.cycles(record(1000, 0, 24.0))
    equal(model.overhead(nested, native), Fraction(245, 45) - 1)
    equal(model.overhead(native, native), 0)


def test_a_line_is_the_total_over_one_parameter():
    m = loaded(GOOD)
    r = record(ticks=3000, exits=50, refs=24.0)
    for key, value in (("cycles_per_exit", 1000), ("cycles_per_reference", 10), ("cycles_per_instruction", Fraction(1, 2))):
        equal(m.line(r, key).at(value), m.cycles(r).total, key)
    equal(m.line(r, "cycles_per_exit").slope, Fraction(1, 2))


def test_the_break_even_is_where_lines_cross():
    # Nested costs 384 whatever an exit costs, shadow 64 and an exit in four operations, compound 100 and one in eight.
    nested, shadow, compound = line(384, 0), line(64, Fraction(1, 4)), line(100, Fraction(1, 8))
    won = model.wins(compound, [nested, shadow])
    equal((won.low, won.high), (288, 2272))
    equal(compound.at(won.low), shadow.at(won.low))
    equal(compound.at(won.high), nested.at(won.high))


def test_the_break_even_is_exact():
    won = model.wins(line(Fraction(1, 3), Fraction(1, 7)), [line(2, 0)])
    equal(won.high, Fraction(35, 3))


def test_winning_everywhere_and_nowhere():
    equal(model.wins(line(1, 0), [line(2, 0), line(1, 0)]), model.Range(Fraction(0), None))
    equal(model.wins(line(3, 0), [line(2, 0)]), None)
    equal(model.wins(line(3, 1), [line(2, 1)]), None)
    # Better than one only below 10, better than the other only above 20.
    equal(model.wins(line(0, 1), [line(10, 0), line(20, 0)]).high, 10)
    equal(model.wins(line(20, 1), [line(30, 0), line(0, 2)]), None)


def test_a_tolerance_widens():
    compound, shadow = line(101, 0), line(100, 0)
    equal(model.wins(compound, [shadow]), None)
    equal(model.wins(compound, [shadow], Fraction(1, 100)), model.Range(Fraction(0), None))


def test_the_processor_is_chosen():
    equal(loaded(GOOD).processor, "one")
    equal(loaded(GOOD, "two").cycles_per_exit, 2000)


def test_errors_name_file_section_and_key():
    cases = [
        (GOOD.replace("cycles_per_exit = 1000\n", ""), "[one] cycles_per_exit: is missing"),
        (GOOD.replace("= 1000", "= many"), "[one] cycles_per_exit = many: not a number"),
        (GOOD.replace("= 1000", "= -1"), "[one] cycles_per_exit = -1: must not be negative"),
        (GOOD.replace("= 1000", "= 1000\nspeed = 3"), "[one] speed: no such key"),
        (GOOD.replace("processor = one", "processor = six"), "[model] processor = six: has no section; there are one, two"),
        (GOOD.replace("[model]\nprocessor = one\n", ""), "[model]: the section is missing"),
        (GOOD.replace("processor = one\n", ""), "[model] processor: is missing"),
        (GOOD + "[one]\n", "section 'one' already exists"),
        ("title\n", "no section headers"),
    ]
    for text, wanted in cases:
        path = file_of(text)
        raises(model.ModelError, f"{path}: " if "[" in wanted else str(path), model.load, path)
        raises(model.ModelError, wanted, model.load, path)
        path.unlink()
    raises(model.ModelError, "[three]: no such processor; there are one, two", loaded, GOOD, "three")
    raises(model.ModelError, "/nowhere/model.ini: No such file", model.load, pathlib.Path("/nowhere/model.ini"))


if __name__ == "__main__":
    sys.exit(0 if run(tests_of(globals()), "model") else 3)
