# SPDX-License-Identifier: BSD-2-Clause
"""The Linux workloads as VMs, and what their records say: for scripts/workloads and the booted tests."""

import re

from twofold import image, systems

SCRIPT = image.ROOT / "guest-tests/linux/work/workloads"
MEMORY = "256M"
TIME_LIMIT = "3600s"  # of the machine's time
REASONS = 3  # of exits, in the table
NOT_THERE = "-"


def _names():
    """The workloads that the script has, in its order."""
    text = SCRIPT.read_text(encoding="utf-8")
    stressors = re.search(r'^stressors="\n(.*?)^"', text, re.M | re.S)[1]
    others = re.search(r'^names=".*\)(.*)"$', text, re.M)[1]
    return re.findall(r"^([\w-]+):", stressors, re.M) + others.split()


NAMES = _names()


def vm(system, paging, only=None, scale=1, cpus=1, *keys):
    """A VM, called as its way of paging, that runs the workloads of `system` (systems.build("workloads"))."""
    arguments = [f"only={only}"] * bool(only) + [f"scale={scale}"] * (scale != 1)
    append = f"loglevel=0 {systems.NO_CIPHER_TESTS} -- {' '.join(arguments)}"
    return paging, [*system.keys(append, pvh=True), ("memory", MEMORY), ("paging", paging), ("cpus", cpus), ("trace", "0"),
                    ("time_limit", TIME_LIMIT), *keys]


def chosen(only):
    return only.split(",") if only else NAMES


def results(text):
    """{workload: "ok" or what went wrong} of what a VM printed."""
    found = re.findall(r"^result (\S+) (?:(ok) \d+|(FAIL.*?))\r?$", text, re.M)
    return {name: ok or why for name, ok, why in found}


def collect(boot, lines):
    """The records of a suite.Result, each with its `result`; `lines`: the console's, parsed."""
    text = {}
    for line in lines:
        if line.kind == "guest":
            text[line.name] = text.get(line.name, b"") + line.value
    said = {name: results(value.decode("utf-8", "replace")) for name, value in text.items()}
    return [{**record, "result": said.get(record["vm"], {}).get(record["bench"], "it printed none")} for record in boot.records]


def problems(boot, found, pagings, only=None):
    """What went wrong, as sentences."""
    wrong = [f"{paging}: {boot.ends[paging]['end']} {boot.ends[paging]['why']}" if paging in boot.ends else f"{paging} did not end"
             for paging in pagings if boot.ends.get(paging, {}).get("end") != "poweroff"]
    wrong += [f"{r['vm']}: {r['bench']}: {r['result']}" for r in found if r["result"] != "ok" or not r["ok"]]
    there = {(r["vm"], r["bench"]) for r in found}
    wrong += [f"{paging}: {name} has no record" for paging in pagings for name in chosen(only) if (paging, name) not in there]
    return wrong


# --- the table --------------------------------------------------------------------------------------------------

HEAD = ["workload", "paging", "result", "ticks, M", "handling", "exits", "most of them", "references", "root: nested, compound, shadow",
        "table writes", "promotions", "demotions"]


def percent(part, whole):
    return f"{100 * part / whole:.0f} %" if whole else NOT_THERE


def thousands(value):
    return f"{value:,}"


def row(r):
    top = sorted(r["exits_by"].items(), key=lambda item: -item[1])[:REASONS]
    times = [r["state_ticks"][state] for state in ("nested", "compound", "shadow")]
    nested = r["paging"] == "nested"
    of_root = ", ".join(percent(t, sum(times)) for t in times) if sum(times) else NOT_THERE
    ticks = r["ticks"] - (r["audit_ticks"] if r["vcpus"] == 1 else 0)  # of several, the others ran on meanwhile
    return [r["bench"], r["paging"], "ok" if r["ok"] and r["result"] == "ok" else "FAIL", f"{ticks / 1e6:.0f}",
            percent(r["host_ticks"], ticks), thousands(r["exits"]), ", ".join(f"{name} {thousands(n)}" for name, n in top),
            f"{r['walk_refs']:.1f}" if r["walk_refs"] is not None else NOT_THERE,
            NOT_THERE if nested else of_root,
            *(NOT_THERE if nested else thousands(r[field]) for field in ("pt_writes_trapped", "promotions", "demotions"))]


def table(found):
    """A Markdown table of records, a workload's ways of paging beside each other."""
    order = {name: i for i, name in enumerate(NAMES)}
    rows = [row(r) for r in sorted(found, key=lambda r: order.get(r["bench"], len(order)))]
    lines = [HEAD, ["---"] * 3 + ["---:"] * 3 + ["---", "---:", "---", "---:", "---:", "---:"], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
