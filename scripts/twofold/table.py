# SPDX-License-Identifier: BSD-2-Clause
"""The evaluation's tables as text."""

from twofold import model

NOT_THERE = "-"


def number(value, digits=2):
    return NOT_THERE if value is None else f"{float(value):.{digits}f}"


def percent(value):
    return NOT_THERE if value is None else f"{float(value) * 100:+.1f} %"


def steady_of(records):
    """The last steady record of each benchmark, size and way, in their order."""
    found = {}
    for r in records:
        if r["phase"] == "steady":
            found[r["bench"], r["size"], r["paging"], r["ept_page"]] = r
    return found


def measured(count, ops):
    """Of what the processor counts: "n/a" where it does not."""
    return "n/a" if count is None else number(count / ops)


def steady(records, costs):
    """Each benchmark in its usual size, a line for each way of paging."""
    rows = ["benchmark            paging   ept  instructions/op     exits/op   refs  modelled/op  over native  "
            "handling/op  cycles/op  walk cycles  TLB misses"]
    found = steady_of(records)
    usual = {}
    for bench, size, _, _ in found:
        usual.setdefault(bench, size)
    for (bench, size, paging, page), r in found.items():
        if size != usual[bench]:
            continue
        parts = costs.cycles(r)
        native = found.get((bench, size, "native", None))
        over = model.overhead(parts, costs.cycles(native) if native else None)
        instructions = r["instructions"] / r["ops"] if r["instructions"] is not None else None
        handling = r["host_ticks"] / r["ops"] if r.get("host_ticks") is not None else None
        pmu = r.get("pmu") or {}
        rows.append(f"{bench:20} {paging:8} {page or NOT_THERE:4} {number(instructions):>15} "
                    f"{number(r['exits'] / r['ops'], 3):>12} {number(model.references_of(r)):>6} "
                    f"{number(parts.total, 0):>12} {percent(over):>12} "
                    f"{number(handling):>12} {measured(r['cycles'], r['ops']):>10} "
                    f"{measured(pmu.get('walk_cycles'), r['ops']):>12} {measured(pmu.get('tlb_misses'), r['ops']):>11}")
    if any(r.get("machine") == "bochs" for r in records):
        rows.append("cycles, walk cycles, TLB misses: not available on Bochs, an emulator; instructions are of guest and hypervisor "
                    "together, handling (of exits) is the hypervisor's part")
    return "\n".join(rows)


def growth(records, costs, usual):
    """The modelled overhead over native by size, one line a benchmark and way."""
    found = steady_of(records)
    sizes, ways = {}, {}
    for bench, size, paging, page in found:
        if bench in usual and paging != "native" and size is not None:
            sizes.setdefault(bench, set()).add(size)
            ways.setdefault(bench, [])
            if (paging, page) not in ways[bench]:
                ways[bench].append((paging, page))
    rows = []
    for bench in sizes:
        if len(sizes[bench]) < 2:
            continue
        order = sorted(sizes[bench])
        rows.append(f"{bench}: modelled time over native, by size: {', '.join(map(str, order))}")
        for paging, page in ways[bench]:
            cells = []
            for size in order:
                r, native = found.get((bench, size, paging, page)), found.get((bench, size, "native", None))
                over = model.overhead(costs.cycles(r), costs.cycles(native)) if r and native else None
                cells.append(f"{percent(over):>10}")
            if cells.count(f"{NOT_THERE:>10}") < len(cells) - 1:
                rows.append(f"    {paging:8} {page:3} {''.join(cells)}")
    return "\n".join(rows)
