# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of this folder share: functions whose names begin with test_ are run, each prints its line."""

import pathlib
import sys
import traceback

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/report/data"
sys.path.insert(0, str(ROOT / "scripts"))


def expect(right, why):
    if not right:
        raise AssertionError(why)


def equal(got, wanted, what=""):
    expect(got == wanted, f"{what}: {got!r} and not {wanted!r}" if what else f"{got!r} and not {wanted!r}")


def raises(error, text, function, *args):
    """`function` must raise `error`, and what it says must hold `text`."""
    try:
        function(*args)
    except error as raised:
        expect(text in str(raised), f"says {str(raised)!r}, not {text!r}")
        return
    raise AssertionError(f"no {error.__name__} that says {text!r}")


def run(tests, prefix, *args):
    """Run each; returns whether all passed."""
    all_passed = True
    for test in tests:
        name = f"{prefix}_{test.__name__.removeprefix('test_')}"
        try:
            test(*args)
            print(f"ok {name}", flush=True)
        except Exception as error:
            all_passed = False
            where = traceback.extract_tb(error.__traceback__)
            line = next((f.lineno for f in reversed(where) if f.name == test.__name__), where[-1].lineno)
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            print(f"FAIL {name}: line {line}: {why}", flush=True)
    return all_passed


def tests_of(names):
    return [value for name, value in names.items() if name.startswith("test_") and callable(value)]
