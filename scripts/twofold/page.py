# SPDX-License-Identifier: BSD-2-Clause
"""The report's data from what runs left in out/, and the page that shows it.

Everything that the page shows as a number is in the data; scripts/report/page.js only draws it. docs/report.md
says how each number comes about.
"""

import json
import math
import pathlib
from fractions import Fraction

from twofold import model, regions, results

FILES = pathlib.Path(__file__).resolve().parents[1] / "page"
D3 = pathlib.Path("/usr/share/nodejs/d3/dist/d3.min.js")
D3_LICENCE = pathlib.Path("/usr/share/doc/node-d3/copyright")

# What there is to show, and what makes it.
SOURCES = {
    "bench": ("bench.jsonl", "the benchmarks under Twofold", "make bench"),
    "trace": ("trace.jsonl", "what was handled how, and when", "make bench"),
    "walksim": ("walksim.jsonl", "traces through the model of a processor's walker", "make walksim"),
    "kvm": ("kvm.jsonl", "the same guests under Linux' KVM", "make bench-kvm"),
}
MAPS_OF = ("phases", "mixed")  # benchmarks whose map of regions is shown
# The VM of such a benchmark that a run of scripts/run or make bench calls so.
MAP_PAGING = "compound"

TOLERANCE = Fraction(1, 100)  # within which two modelled totals are taken for the same
SWEEP = {"cycles_per_exit": 6000, "cycles_per_reference": 64}
TECHNIQUES = ("nested", "shadow", "compound")
NOT_INSTRUCTIONS = ("kvm", "qemu")  # machines whose ticks are cycles


class PageError(Exception):
    """The page cannot be made; the text says why and what to do."""


def plain(value):
    """A fraction as JSON has it."""
    return None if value is None else float(value)


# --- records --------------------------------------------------------------------------------------------------


def key_of(record):
    """What records must have in common to be compared."""
    return record["bench"], record["phase"], record.get("size"), record.get("size_unit")


def _once(records):
    """The first of records that repeat the same run: counts are the same, times are not shown."""
    seen = {}
    for record in records:
        seen.setdefault((*key_of(record), record["paging"], record.get("ept_page"), record.get("policy")), record)
    return list(seen.values())


def is_whole(record):
    """Whether it is a benchmark, and not a loop of one operation, or a step of one: those have a dot in their names."""
    return "." not in record["bench"] and bool(record.get("touches"))


def has_instructions(record):
    """Whether its ticks are instructions, and so can be modelled."""
    return record.get("machine") not in NOT_INSTRUCTIONS and record.get("cycles") is None


def usual_sizes(records):
    """The size that stands for each benchmark where only one can: that with the most modes; of several, the first."""
    modes = {}
    for r in records:
        if r["phase"] == "steady":
            modes.setdefault(r["bench"], {}).setdefault(r.get("size"), set()).add((r["paging"], r.get("ept_page")))
    return {bench: max(sizes, key=lambda size: len(sizes[size])) for bench, sizes in modes.items()}


def _base(records, parts):
    """What a benchmark's records are shown in relation to: native, else nested with the smallest EPT pages, by key."""
    rank = {("native", None): 0, ("nested", "4k"): 1, ("nested", "2m"): 2, ("nested", "1g"): 3}
    found = {}
    for r, p in zip(records, parts):
        at = rank.get((r["paging"], r.get("ept_page")))
        if at is not None and p and p.total and (key_of(r) not in found or at < found[key_of(r)][0]):
            found[key_of(r)] = (at, r, p)
    return {key: (r, p) for key, (_, r, p) in found.items()}


def _relative(parts, base):
    """A total as a multiple of the base's."""
    if parts is None or parts.total is None or base is None:
        return None, None
    record, base_parts = base
    return plain(parts.total / base_parts.total), {"paging": record["paging"], "ept_page": record.get("ept_page")}


def _row(record, parts, native, base, usual):
    refs = model.references_of(record)
    ops = record["ops"]
    relative, relative_to = _relative(parts, base)
    return {
        **{name: record.get(name) for name in (
            "bench", "phase", "size", "size_unit", "paging", "policy", "ept_page", "machine", "ops", "ticks", "exits",
            "exits_by", "touches", "walks_by", "pt_writes_trapped", "syncs", "promotions", "demotions", "ok")},
        "ticks_per_op": plain(Fraction(record["ticks"], ops)),
        "exits_per_op": plain(Fraction(record["exits"], ops)),
        "misses_per_op": None if record.get("touches") is None else plain(Fraction(record["touches"], ops)),
        "refs": plain(refs),
        "refs_derived": refs is not None and record.get("walk_refs_mean") is None and record.get("walk_refs") is None,
        "model": None if parts is None else {
            "instructions": plain(parts.instructions), "exits": plain(parts.exits), "walks": plain(parts.walks),
            "total": plain(parts.total)},
        "overhead": plain(model.overhead(parts, native)) if parts else None,
        "whole": is_whole(record),
        "usual": usual.get(record["bench"], record.get("size")) == record.get("size"),
        "relative": relative,
        "relative_to": relative_to,
    }


def rows(records, costs):
    """A row for each record: per operation, modelled, over the native record of the same key."""
    records = _once(records)
    parts = [costs.cycles(r) if has_instructions(r) else None for r in records]
    native = {key_of(r): p for r, p in zip(records, parts) if r["paging"] == "native"}
    base = _base(records, parts)
    usual = usual_sizes(records)
    return [_row(r, p, native.get(key_of(r)), base.get(key_of(r)), usual) for r, p in zip(records, parts)]


# --- sensitivity ----------------------------------------------------------------------------------------------


def _range(found):
    return None if found is None else {"low": plain(found.low), "high": plain(found.high)}


def _shadow_of(group, page):
    """With shadow paging, EPT pages are for what is not paged by nodes: any record will do, the same page's first."""
    own = [r for r in group if r["paging"] == "shadow"]
    return next((r for r in own if r.get("ept_page") == page), own[0] if own else None)


def _competitors(group, page):
    """The record of each technique with that EPT page; None where one is missing."""
    found = {name: next((r for r in group if r["paging"] == name and r.get("ept_page") == page), None)
             for name in ("nested", "compound")}
    found["shadow"] = _shadow_of(group, page)
    return found if all(found.values()) else None


def _one_sensitivity(key, page, found, native, costs, parameter):
    lines = {name: costs.line(found[name], parameter) for name in TECHNIQUES}
    if not all(lines.values()):
        return None
    others = [lines["nested"], lines["shadow"]]
    now = getattr(costs, parameter)
    native_line = costs.line(native, parameter) if native else None
    return {
        "bench": key[0], "size": key[2], "size_unit": key[3], "ept_page": page, "parameter": parameter,
        "now": plain(now), "end": SWEEP[parameter],
        "lines": {name: {"base": plain(line.base), "slope": plain(line.slope)} for name, line in lines.items()},
        "native": native_line and {"base": plain(native_line.base), "slope": plain(native_line.slope)},
        "wins": _range(model.wins(lines["compound"], others)),
        "wins_about": _range(model.wins(lines["compound"], others, TOLERANCE)),
        "best_now": min(TECHNIQUES[:2], key=lambda name: lines[name].at(now)),
        "gain_now": plain(1 - lines["compound"].at(now) / min(line.at(now) for line in others))
        if min(line.at(now) for line in others) else None,
    }


def sensitivities(records, costs):
    """For each benchmark, size and EPT page in steady state: totals as lines over each parameter, and where compound wins."""
    groups = {}
    for record in _once(records):
        if record["phase"] == "steady" and has_instructions(record) and is_whole(record):
            groups.setdefault(key_of(record), []).append(record)
    found = []
    for key, group in groups.items():
        native = next((r for r in group if r["paging"] == "native"), None)
        for page in sorted({r["ept_page"] for r in group if r.get("ept_page")}, key="4k 2m 1g".split().index):
            competitors = _competitors(group, page)
            if competitors is None:
                continue
            for parameter in SWEEP:
                one = _one_sensitivity(key, page, competitors, native, costs, parameter)
                if one:
                    found.append(one)
    return found


# --- in short -------------------------------------------------------------------------------------------------


def _geometric(ratios):
    return math.exp(sum(math.log(r) for r in ratios) / len(ratios)) if ratios else None


def _summary_of(totals, page):
    """`totals`: by benchmark, modelled totals of the techniques and of native, or None there."""
    def mean(of, to):
        return _geometric([t[of] / t[to] for t in totals.values()])

    single = min(("nested", "shadow"), key=lambda name: mean(name, "compound"))
    natives = [t for t in totals.values() if t["native"]]
    best = {bench: min(t["nested"], t["shadow"]) for bench, t in totals.items()}
    return {
        "ept_page": page,
        "benchmarks": list(totals),
        "single": single,
        "to_single": mean("compound", single),
        "to_nested": mean("compound", "nested"),
        "to_shadow": mean("compound", "shadow"),
        "to_best_each": _geometric([t["compound"] / best[bench] for bench, t in totals.items()]),
        "not_worse": [bench for bench, t in totals.items() if t["compound"] <= best[bench] * (1 + float(TOLERANCE))],
        "native_benchmarks": len(natives),
        "to_native": _geometric([t["compound"] / t["native"] for t in natives]),
    }


def summaries(records, costs):
    """Compound against the others over all benchmarks whose totals are known and whose misses count, by EPT page."""
    groups, usual = {}, usual_sizes(records)
    for record in _once(records):
        if (record["phase"] == "steady" and has_instructions(record) and is_whole(record)
                and record.get("size") == usual[record["bench"]]):
            groups.setdefault(key_of(record), []).append(record)
    found = []
    for page in ("4k", "2m", "1g"):
        totals = {}
        for key, group in groups.items():
            competitors = _competitors(group, page)
            own = {name: costs.cycles(r).total for name, r in (competitors or {}).items()}
            if not own or not all(own.values()):
                continue
            native = next((r for r in group if r["paging"] == "native"), None)
            own["native"] = costs.cycles(native).total if native else None
            totals[key[0]] = {name: plain(value) for name, value in own.items()}
        if totals:
            found.append(_summary_of(totals, page))
    return found


# --- all of it ------------------------------------------------------------------------------------------------


def _maps(events):
    wanted = [e for e in events if e["vm"].split(".")[0] in MAPS_OF and MAP_PAGING in e["vm"].split(".")]
    return regions.maps(wanted)


def gather(folder, costs, all_models, made):
    """The page's data. `made`: what to say of when and from what, a dict of texts."""
    read = {"bench": results.read_bench, "trace": results.read_trace, "kvm": results.read_bench,
            "walksim": lambda path: results.read(path, results.WALKSIM)}
    found = {name: read[name](folder / file) for name, (file, _, _) in SOURCES.items()}
    bench, kvm = found["bench"] or [], found["kvm"] or []
    return {
        "made": made,
        "model": {"processor": costs.processor, "title": costs.title, "describe": costs.describe(),
                  "tolerance": plain(TOLERANCE)},
        "processors": [
            {"processor": m.processor, "title": m.title,
             "parameters": [{"key": key, "value": plain(getattr(m, key)), "source": text} for key, text in m.sources]}
            for m in all_models],
        "sources": [
            {"name": name, "file": file, "what": what, "command": command,
             "records": None if found[name] is None else len(found[name])}
            for name, (file, what, command) in SOURCES.items()],
        "bench": rows(bench, costs),
        "kvm": rows(kvm, costs),
        "summary": summaries(bench, costs),
        "sensitivity": sensitivities(bench, costs),
        "maps": _maps(found["trace"] or []),
        "walksim": found["walksim"] or [],
    }


def _read(path, package=None):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        hint = f"; install the Debian package {package}, or run scripts/setup report" if package else ""
        raise PageError(f"{path}: {error.strerror}{hint}") from None


def embedded(data):
    """JSON that cannot end the element that it stands in."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def render(data):
    """The whole page."""
    library = _read(D3, "node-d3")
    if "</script" in library.lower():
        raise PageError(f"{D3}: cannot stand inside a page")
    parts = {
        "%LICENCE%": _read(D3_LICENCE, "node-d3").replace("&", "&amp;").replace("<", "&lt;"),
        "%STYLE%": _read(FILES / "page.css"),
        "%DATA%": embedded(data),
        "%D3%": library,
        "%SCRIPT%": _read(FILES / "page.js"),
    }
    page = _read(FILES / "page.html")
    for name in parts:
        if page.count(name) != 1:
            raise PageError(f"{FILES / 'page.html'}: must hold {name} once")
    before = 0
    pieces = []
    for at, name in sorted((page.index(name), name) for name in parts):
        pieces += [page[before:at], parts[name]]
        before = at + len(name)
    return "".join([*pieces, page[before:]])
