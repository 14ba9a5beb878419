# SPDX-License-Identifier: BSD-2-Clause
"""The model: cycles an operation from counts, and what the conclusion owes to its parameters.

    cycles = instructions x cycles_per_instruction + exits x cycles_per_exit
           + TLB misses x references of a miss x cycles_per_reference

The parameters are those of scripts/model.ini. All is exact (fractions), so that a break-even is where two lines
cross and not where two rounded numbers happen to. docs/report.md says what the model can tell.
"""

import configparser
import pathlib
from dataclasses import dataclass, replace
from fractions import Fraction

INI = pathlib.Path(__file__).resolve().parents[1] / "model.ini"
KEYS = ("cycles_per_instruction", "cycles_per_exit", "cycles_per_reference")
SOURCE = "_source"


class ModelError(Exception):
    """The file cannot be used; the text names file, section and key."""


@dataclass(frozen=True)
class Parts:
    """Cycles an operation. `walks`, and then `total`, is None where a record does not say what a miss takes."""

    instructions: Fraction
    exits: Fraction
    walks: Fraction | None

    @property
    def total(self):
        return None if self.walks is None else self.instructions + self.exits + self.walks


@dataclass(frozen=True)
class Line:
    """A modelled total over one parameter: at(x) = base + slope * x."""

    base: Fraction
    slope: Fraction

    def at(self, x):
        return self.base + self.slope * x


@dataclass(frozen=True)
class Range:
    """Where something holds: from `low` to `high`, both included; `high` None: however far."""

    low: Fraction
    high: Fraction | None


@dataclass(frozen=True)
class Model:
    processor: str
    title: str
    cycles_per_instruction: Fraction
    cycles_per_exit: Fraction
    cycles_per_reference: Fraction
    sources: tuple  # of (key, text)

    def describe(self):
        return (f"model {self.processor}: {number(self.cycles_per_instruction)} cycles an instruction, "
                f"{number(self.cycles_per_exit)} a VM exit, {number(self.cycles_per_reference)} a memory reference")

    def cycles(self, record):
        """The parts of one @bench record whose ticks are instructions, as they are on Bochs."""
        ops = record["ops"]
        references = references_in(record)
        return self.of_counts(exact(record["ticks"]) / ops, Fraction(record["exits"], ops),
                              None if references is None else references / ops)

    def of_counts(self, instructions, exits, references):
        """The parts of plain counts; `references`: of all TLB misses together, or None where they are not known."""
        return Parts(
            instructions=exact(instructions) * self.cycles_per_instruction,
            exits=exact(exits) * self.cycles_per_exit,
            walks=None if references is None else exact(references) * self.cycles_per_reference,
        )

    def line(self, record, key):
        """The modelled total of a record over the parameter `key`, or None where it is not known."""
        without = replace(self, **{key: Fraction(0)}).cycles(record).total
        with_one = replace(self, **{key: Fraction(1)}).cycles(record).total
        return None if without is None else Line(without, with_one - without)


def references_of(record):
    """References of a TLB miss, or None: the mean over the guest's time where it was sampled, else the audit's, else
    what a peer's page sizes let one derive."""
    for key in ("walk_refs_mean", "walk_refs", "walk_refs_derived"):
        if record.get(key) is not None:
            return exact(record[key])
    return None


def references_in(record):
    """References of all TLB misses of a record, a touch for a miss, or None."""
    misses, references = record.get("touches"), references_of(record)
    if misses == 0:
        return Fraction(0)
    return None if misses is None or references is None else exact(misses) * references


def exact(value):
    """What the record says, digit by digit: 4.38 is 438/100."""
    return Fraction(str(value))


def number(value):
    """A parameter for people: 16, 0.5."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"


def overhead(parts, native):
    """The share of the native total by which `parts` are more, or None where either is not known."""
    if native is None or native.total is None or parts.total is None or native.total == 0:
        return None
    return parts.total / native.total - 1


# --- sensitivity ----------------------------------------------------------------------------------------------


def wins(line, others, tolerance=Fraction(0)):
    """Where `line` is at most (1 + tolerance) times the least of `others`, over values from 0 on.

    The least of straight lines is concave, so that there is one Range or none (None). Its `high` is the
    break-even: above it one of the others is the better.
    """
    low, high = Fraction(0), None
    for other in others:
        # base + slope * x <= 0
        base = line.base - (1 + tolerance) * other.base
        slope = line.slope - (1 + tolerance) * other.slope
        if slope == 0:
            if base > 0:
                return None
        elif slope > 0:
            high = -base / slope if high is None else min(high, -base / slope)
        else:
            low = max(low, -base / slope)
    if high is not None and high < low:
        return None
    return Range(low, high)


def steps(end, count=24):
    """`count` + 1 values from 0 to `end`."""
    return [Fraction(end) * i / count for i in range(count + 1)]


# --- the file -------------------------------------------------------------------------------------------------


def _positive(path, section, key, text):
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ModelError(f"{path}: [{section}] {key} = {text}: not a number") from None
    if value < 0:
        raise ModelError(f"{path}: [{section}] {key} = {text}: must not be negative")
    return value


def _section(path, parser, name):
    section = parser[name]
    known = {"title", *KEYS, *(key + SOURCE for key in KEYS)}
    if unknown := sorted(set(section) - known):
        raise ModelError(f"{path}: [{name}] {unknown[0]}: no such key; there are {', '.join(sorted(known))}")
    if missing := [key for key in ("title", *KEYS) if key not in section]:
        raise ModelError(f"{path}: [{name}] {missing[0]}: is missing")
    values = {key: _positive(path, name, key, section[key]) for key in KEYS}
    sources = tuple((key, section.get(key + SOURCE, "")) for key in KEYS)
    return Model(name, section["title"], sources=sources, **values)


def _read(path):
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as f:
            parser.read_file(f)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from None
    return parser


def load_all(path=INI):
    """All processors of the file, the default one first."""
    parser = _read(path)
    names = [name for name in parser.sections() if name != "model"]
    if not parser.has_section("model"):
        raise ModelError(f"{path}: [model]: the section is missing")
    if "processor" not in parser["model"]:
        raise ModelError(f"{path}: [model] processor: is missing")
    default = parser["model"]["processor"]
    if default not in names:
        raise ModelError(f"{path}: [model] processor = {default}: has no section; there are {', '.join(names)}")
    names.sort(key=lambda name: name != default)
    return [_section(path, parser, name) for name in names]


def load(path=INI, processor=None):
    """The named processor's Model, or the default one's."""
    models = load_all(path)
    if processor is None:
        return models[0]
    for model in models:
        if model.processor == processor:
            return model
    raise ModelError(f"{path}: [{processor}]: no such processor; there are "
                     f"{', '.join(model.processor for model in models)}")
