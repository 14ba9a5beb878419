// SPDX-License-Identifier: BSD-2-Clause
// Draws the report from the JSON that stands in the page: sections, tables, charts. No number is made here but by
// scaling, rounding and following the straight lines that the data gives.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

// --- words ---------------------------------------------------------------------------------------------------

const PARTS = [["instructions", "instructions"], ["exits", "VM exits"], ["walks", "page walks"]];
const HANDLING = {
  shadow: "shadow-handled", nested: "nested-handled", unsync: "out of sync", root: "all of it nested",
  unused: "not walked yet", end: "",
};
const ROOT_STATE = { nested: "nested", compound: "compound", shadow: "shadow" };
const PARAMETER = {
  cycles_per_instruction: "Cycles an instruction", cycles_per_exit: "Cycles a VM exit",
  cycles_per_reference: "Cycles a memory reference",
};
const PER = { cycles_per_exit: "cycles a VM exit", cycles_per_reference: "cycles a memory reference" };
const TECHNIQUES = ["nested", "shadow", "compound"];
const PAGING_ORDER = ["native", "nested", "shadow", "compound", "kvm-ept", "kvm-shadow"];
const PAGE_NAME = { "4k": "4 KiB", "2m": "2 MiB", "1g": "1 GiB" };

/** What a paging mode is drawn as. */
function paint(paging) {
  return paging.startsWith("kvm") ? "kvm" : paging;
}

/** Ways of paging that ran with several policies: their names must tell which. */
const manyPolicies = new Set([...d3.nest().key((r) => r.paging).entries(data.bench)]
  .filter((g) => new Set(g.values.map((r) => r.policy)).size > 1).map((g) => g.key));

function modeName(r) {
  const name = r.ept_page && r.paging !== "native" ? `${r.paging} ${r.ept_page}` : r.paging;
  return r.policy && manyPolicies.has(r.paging) ? `${name} ${r.policy}` : name;
}

function sizeName(r) {
  return r.size == null ? "" : `${number(r.size)}${r.size_unit ? " " + r.size_unit : ""}`;
}

function benchName(r) {
  return r.size == null ? r.bench : `${r.bench}, ${sizeName(r)}`;
}

/** At most four digits that count, thousands apart; nothing for what is not known. */
function number(x) {
  if (x == null) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 100 || Number.isInteger(x)) return d3.format(",.0f")(x);
  if (size >= 10) return d3.format(".1f")(x);
  if (size >= 0.005) return d3.format(".2f")(x);
  return "<0.01";
}

function percent(x) {
  if (x == null) return "–";
  const size = Math.abs(x * 100);
  return d3.format(size >= 100 ? "+,.0f" : "+.1f")(x * 100).replace("-", "−") + " %";
}

function times(x) {
  return x == null ? "–" : `${x >= 10 ? d3.format(".1f")(x) : d3.format(".2f")(x)}×`;
}

// --- elements ------------------------------------------------------------------------------------------------

/** An element; attributes of null are left out; children are elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    else if (value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c != null));
  return element;
}

function section(id, title, ...children) {
  document.getElementById("contents").append(make("li", {}, make("a", { href: `#${id}` }, title)));
  const made = make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), children);
  document.getElementById("content").append(made);
  return made;
}

function prose(...children) {
  return make("p", { class: "prose" }, children);
}

/** A drop-down with a label; `changed` gets the value. */
function chooser(id, label, options, value, changed) {
  const select = make("select", { id, on: { change: () => changed(select.value) } },
    options.map(([v, text]) => make("option", { value: v, selected: v === value ? true : null }, text)));
  return make("label", {}, label, select);
}

/** Says what is not there and what makes it. */
function missing(name) {
  const source = data.sources.find((s) => s.name === name);
  return make("div", { class: "missing", "data-missing": name },
    make("p", {}, `No ${source.file}: ${source.what}. `, make("code", {}, source.command), " makes it, ",
      make("code", {}, "make report"), " this page."));
}

// --- downloads -----------------------------------------------------------------------------------------------

function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** `columns`: [{name, of, title, number, show}]; a CSV has the whole value, a cell the rounded one. */
function csv(columns, rows) {
  const value = (v) => (v == null ? "" : typeof v === "object" ? JSON.stringify(v) : v);
  return d3.csvFormatRows([columns.map((c) => c.name), ...rows.map((r) => columns.map((c) => value(c.of(r))))]) + "\n";
}

function csvButton(name, columns, rows) {
  return make("button", { type: "button", "data-csv": name,
    on: { click: () => download(`${name}.csv`, "text/csv;charset=utf-8", csv(columns, rows())) } }, "CSV");
}

// --- tables --------------------------------------------------------------------------------------------------

/** A scrolling table; cells carry the whole value in data-value. */
function table(name, columns, rows, options = {}) {
  const head = make("tr", {}, columns.map((c) => make("th", { scope: "col", class: c.number ? "number" : null }, c.title)));
  let before = null;
  const body = rows.map((r) => {
    const first = options.group && before !== null && options.group(r) !== before;
    if (options.group) before = options.group(r);
    return make("tr", { class: [first ? "first" : "", options.best && options.best(r) ? "best" : ""].join(" ").trim() || null },
      columns.map((c, i) => {
        const value = c.of(r);
        const shown = c.show ? c.show(value, r) : c.number ? number(value) : value ?? "–";
        return make(i === 0 ? "th" : "td", {
          scope: i === 0 ? "row" : null,
          class: [c.number ? "number" : "", c.class || ""].join(" ").trim() || null,
          "data-column": c.name, "data-value": value == null ? "" : typeof value === "object" ? JSON.stringify(value) : value,
        }, shown);
      }));
  });
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": options.label || name, "data-table": name },
    make("table", {}, make("thead", {}, head), make("tbody", {}, body)));
}

// --- charts --------------------------------------------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  const own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const above = box.top - own.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}

function hideTip() {
  tip.hidden = true;
}

/** Marks (elements with data-say) of a chart: told under the pointer, and by the arrow keys when it has the focus. */
function navigable(svg) {
  let at = -1;
  const marks = () => [...svg.querySelectorAll(".mark")];
  const go = (to) => {
    const all = marks();
    if (all[at]) all[at].classList.remove("at");
    at = Math.max(0, Math.min(all.length - 1, to));
    if (!all[at]) return;
    all[at].classList.add("at");
    showTip(all[at].getAttribute("data-say"), all[at].getBoundingClientRect());
  };
  svg.addEventListener("pointerover", (e) => {
    const mark = e.target.closest(".mark");
    if (mark) showTip(mark.getAttribute("data-say"), mark.getBoundingClientRect());
  });
  svg.addEventListener("pointerout", hideTip);
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (step) go(at + step);
    else if (e.key === "Home") go(0);
    else if (e.key === "End") go(Infinity);
    else if (e.key === "Escape") hideTip();
    else return;
    e.preventDefault();
  });
  svg.addEventListener("blur", () => {
    hideTip();
    marks().forEach((m) => m.classList.remove("at"));
    at = -1;
  });
}

const drawn = [];
let widthNow = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === widthNow) return;
  widthNow = innerWidth;
  drawn.filter((c) => c.plot.isConnected).forEach((c) => c.draw());
});

/**
 * A chart with its caption and its data as a table. `draw(svg, width)` gives the height. It is drawn when it is in the page:
 * only then its width is known.
 */
function chart({ name, title, note, label, columns, rows, draw }) {
  const plot = make("div", { class: "plot", "data-chart": name });
  const paintIt = () => {
    const width = Math.max(260, Math.floor(plot.getBoundingClientRect().width) || 320);
    plot.replaceChildren();
    const svg = d3.select(plot).append("svg").attr("role", "img").attr("tabindex", 0)
      .attr("aria-label", `${label || title}. Arrow keys go through its values; the table below has them too.`);
    const height = draw(svg, width);
    svg.attr("viewBox", `0 0 ${width} ${height}`);
    navigable(svg.node());
  };
  drawn.push({ plot, draw: paintIt });
  requestAnimationFrame(paintIt);
  const values = rows();
  return make("figure", {},
    title ? make("figcaption", {}, make("h3", {}, title), note ? make("span", { class: "note" }, note) : null) : null,
    plot,
    make("details", {}, make("summary", {}, "Values"),
      make("div", { class: "tools" }, csvButton(name, columns, rows)),
      table(`${name}-values`, columns, values, { label: `Values of ${label || title}` })));
}

function legend(items) {
  return make("ul", { class: "legend" }, items.map(([kind, key, text]) => {
    const svg = d3.create("svg").attr("viewBox", "0 0 26 14").attr("aria-hidden", true);
    if (kind === "fill") svg.append("rect").attr("width", 26).attr("height", 14).attr("rx", 2).attr("fill", `url(#fill-${key})`);
    else {
      svg.append("line").attr("class", `curve line-${key}`).attr("x2", 26).attr("y1", 7).attr("y2", 7);
      svg.append("path").attr("class", `paint-${key}`).attr("transform", "translate(13,7)").attr("d", symbol(key)());
    }
    return make("li", {}, svg.node(), text);
  }));
}

const SYMBOLS = { native: "symbolCross", nested: "symbolSquare", shadow: "symbolTriangle", compound: "symbolCircle", kvm: "symbolDiamond" };

function symbol(key) {
  return d3.symbol().type(d3[SYMBOLS[key] || "symbolStar"]).size(46);
}

/** Axes and grid of a plot with margins; returns the inner size. */
function axes(svg, width, height, margin, x, y, options) {
  const xAxis = d3.axisBottom(x).ticks(Math.max(3, Math.floor(width / 90))).tickFormat(d3.format(options.xFormat)).tickSizeOuter(0);
  const yAxis = d3.axisLeft(y).ticks(options.yTicks || 5, options.yFormat).tickSizeOuter(0);
  if (options.xValues) xAxis.tickValues(options.xValues);
  svg.append("g").attr("class", "grid").selectAll("line").data(y.ticks(options.yTicks || 5)).join("line")
    .attr("x1", margin.left).attr("x2", width - margin.right).attr("y1", (d) => y(d)).attr("y2", (d) => y(d));
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - margin.bottom})`).call(xAxis);
  svg.append("g").attr("class", "axis").attr("transform", `translate(${margin.left},0)`).call(yAxis)
    .call((g) => g.select(".domain").remove());
  svg.append("text").attr("class", "soft").attr("x", (margin.left + width - margin.right) / 2).attr("y", height - 4)
    .attr("text-anchor", "middle").text(options.xTitle);
  svg.append("text").attr("class", "soft").attr("x", 0).attr("y", 11).text(options.yTitle);
}

/** Push labels apart so that none covers another. */
function spread(labels, gap, low, high) {
  labels.sort((a, b) => a.y - b.y);
  labels.forEach((l, i) => { if (i && l.y - labels[i - 1].y < gap) l.y = labels[i - 1].y + gap; });
  if (labels.length && labels[labels.length - 1].y > high) {
    labels[labels.length - 1].y = high;
    for (let i = labels.length - 2; i >= 0; i--) labels[i].y = Math.min(labels[i].y, labels[i + 1].y - gap);
  }
  labels.forEach((l) => { l.y = Math.max(low, l.y); });
}

// --- choosing records ----------------------------------------------------------------------------------------

const sortKey = (r) => [PAGING_ORDER.indexOf(r.paging), ["4k", "2m", "1g"].indexOf(r.ept_page)];

function inOrder(rows) {
  const benches = [...new Set(rows.map((r) => r.bench))];
  return [...rows].sort((a, b) => {
    const [pa, ea] = sortKey(a), [pb, eb] = sortKey(b);
    return benches.indexOf(a.bench) - benches.indexOf(b.bench) || (a.size ?? 0) - (b.size ?? 0) || pa - pb || ea - eb;
  });
}

/** Benchmarks; the others are loops or steps of one operation, for which a share of native says nothing. */
const isWhole = (r) => r.whole;

/** Shadow paging walks no EPT: of its records one is enough, that with the largest EPT pages. */
function oneShadow(rows) {
  const key = (r) => JSON.stringify([r.bench, r.phase, r.size, r.policy]);
  const kept = new Map(rows.filter((r) => r.paging === "shadow").sort((a, b) => sortKey(a)[1] - sortKey(b)[1]).map((r) => [key(r), r]));
  return rows.filter((r) => r.paging !== "shadow" || kept.get(key(r)) === r);
}

// --- in short ------------------------------------------------------------------------------------------------

function drawSummary() {
  const parent = section("short", "In short");
  if (!data.summary.length) {
    parent.append(data.bench.length
      ? prose("No benchmark has a record of nested, shadow and compound paging with the same EPT page size, so that nothing can be compared.")
      : missing("bench"));
    return;
  }
  const s = data.summary[data.summary.length - 1];
  parent.append(prose(`Modelled cycles in steady state with EPT pages of ${PAGE_NAME[s.ept_page]}, ${data.model.title}, over `
    + `${s.benchmarks.length} benchmark${s.benchmarks.length === 1 ? "" : "s"}; means are geometric. `
    + "They follow from exact counts and the parameters below, and are no processor's time."));
  const tiles = [
    [`${s.not_worse.length} of ${s.benchmarks.length}`, `benchmarks where compound is the best of the three, or within ${number(data.model.tolerance * 100)} % of it`],
    [percent(s.to_single - 1), `compound over ${s.single}, the better single technique for all of them`],
    [percent(s.to_best_each - 1), "compound over the better of nested and shadow, benchmark by benchmark"],
  ];
  if (s.native_benchmarks) tiles.push([percent(s.to_native - 1), `compound over the bare machine (${s.native_benchmarks} of ${s.benchmarks.length} benchmarks)`]);
  parent.append(make("div", { class: "tiles" }, tiles.map(([value, text]) => make("div", { class: "tile" }, make("b", {}, value), make("span", {}, text)))));
  const columns = [
    { name: "ept_page", title: "EPT pages", of: (r) => r.ept_page, show: (v) => PAGE_NAME[v] },
    { name: "benchmarks", title: "Benchmarks", number: true, of: (r) => r.benchmarks.length },
    { name: "to_nested", title: "Compound / nested", number: true, of: (r) => r.to_nested, show: times },
    { name: "to_shadow", title: "Compound / shadow", number: true, of: (r) => r.to_shadow, show: times },
    { name: "to_best_each", title: "/ the better of each", number: true, of: (r) => r.to_best_each, show: times },
    { name: "to_native", title: "/ native", number: true, of: (r) => r.to_native, show: times },
    { name: "not_worse", title: "Best or as good in", class: "wrap", of: (r) => r.not_worse.join(", ") },
  ];
  parent.append(table("summary", columns, data.summary, { label: "Compound against the others, by EPT page" }));
}

// --- overhead ------------------------------------------------------------------------------------------------

function barColumns() {
  return [
    { name: "mode", title: "Mode", of: modeName },
    ...PARTS.map(([key, title]) => ({ name: key, title, number: true, of: (r) => r.model[key] })),
    { name: "total", title: "Cycles an operation", number: true, of: (r) => r.model.total },
    { name: "relative", title: "Relative", number: true, of: (r) => r.relative, show: times },
  ];
}

function drawBars(svg, width, rows) {
  const margin = { left: 92, right: 64, top: 4, bottom: 24 }, step = 24;
  const height = margin.top + rows.length * step + margin.bottom;
  const base = rows[0].model.total / rows[0].relative;
  const x = d3.scaleLinear([0, d3.max(rows, (r) => r.relative)], [margin.left, width - margin.right]).nice(4);
  x.range([margin.left, width - margin.right]);
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - margin.bottom})`)
    .call(d3.axisBottom(x).ticks(4).tickFormat((d) => `${+d.toFixed(2)}×`).tickSizeOuter(0));
  rows.forEach((r, i) => {
    const y = margin.top + i * step;
    svg.append("text").attr("x", margin.left - 8).attr("y", y + 15).attr("text-anchor", "end").text(modeName(r));
    let at = 0;
    for (const [key, title] of PARTS) {
      const share = r.model[key] / base;
      if (share > 0) {
        svg.append("rect").attr("class", "mark").attr("x", x(at)).attr("y", y + 3).attr("height", step - 7)
          .attr("width", Math.max(0.5, x(at + share) - x(at))).attr("fill", `url(#fill-${key})`)
          .attr("data-mode", modeName(r)).attr("data-part", key).attr("data-value", r.model[key])
          .attr("data-say", `${benchName(r)}, ${modeName(r)}\n${title}: ${number(r.model[key])} of ${number(r.model.total)} cycles an operation`);
      }
      at += share;
    }
  });
  svg.append("line").attr("class", "base").attr("x1", x(1)).attr("x2", x(1)).attr("y1", margin.top).attr("y2", height - margin.bottom);
  rows.forEach((r, i) => svg.append("text").attr("x", x(r.relative) + 6).attr("y", margin.top + i * step + 15).text(times(r.relative)));
  return height;
}

function barCard(rows) {
  const r = rows[0], to = r.relative_to;
  return make("div", { class: "card" }, chart({
    name: `overhead-${r.bench}`, title: benchName(r), note: `1× is ${modeName(to)}`, label: `Modelled cycles of ${benchName(r)}`,
    columns: barColumns(), rows: () => rows, draw: (svg, width) => drawBars(svg, width, rows),
  }));
}

function drawOverhead() {
  const parent = section("overhead", "Overhead");
  if (!data.bench.length) {
    parent.append(missing("bench"));
    return;
  }
  parent.append(prose("Modelled cycles an operation, stacked by what they go to, as a multiple of the bare machine's",
    data.bench.some((r) => r.paging === "native") ? "." : ". No native record is there yet: 1× is nested paging with the smallest EPT pages instead.",
    " Each benchmark has its own scale."));
  const cards = make("div", { class: "cards", id: "overhead-cards" });
  const show = (phase) => {
    const rows = oneShadow(inOrder(data.bench.filter((r) => r.phase === phase && r.usual && isWhole(r) && r.model && r.model.total != null && r.relative != null)));
    const groups = d3.nest().key((r) => r.bench).entries(rows);
    cards.replaceChildren(...groups.map((g) => barCard(g.values)));
  };
  parent.append(make("div", { class: "controls" },
    chooser("overhead-phase", "Phase", [["steady", "steady state"], ["warmup", "warm-up"]], "steady", show)));
  parent.append(legend(PARTS.map(([key, title]) => ["fill", key, title])), cards);
  show("steady");
}

// --- the table -----------------------------------------------------------------------------------------------

function exitsBy(r) {
  const by = Object.entries(r.exits_by || {}).sort((a, b) => b[1] - a[1]).slice(0, 2);
  return by.map(([why, n]) => `${why} ${number(n / r.ops)}`).join(", ");
}

const BENCH_COLUMNS = [
  { name: "bench", title: "Benchmark", of: (r) => r.bench },
  { name: "size", title: "Size", of: (r) => r.size, show: (v, r) => sizeName(r) || "–" },
  { name: "paging", title: "Paging", of: (r) => r.paging },
  { name: "ept_page", title: "EPT", of: (r) => r.ept_page },
  { name: "policy", title: "Policy", of: (r) => r.policy },
  { name: "ticks_per_op", title: "Instructions", number: true, of: (r) => r.ticks_per_op },
  { name: "exits_per_op", title: "Exits", number: true, of: (r) => r.exits_per_op },
  { name: "misses_per_op", title: "TLB misses", number: true, of: (r) => r.misses_per_op },
  { name: "refs", title: "References a miss", number: true, of: (r) => r.refs },
  { name: "instructions", title: "Cycles: instructions", number: true, of: (r) => r.model && r.model.instructions },
  { name: "exits", title: "exits", number: true, of: (r) => r.model && r.model.exits },
  { name: "walks", title: "walks", number: true, of: (r) => r.model && r.model.walks },
  { name: "total", title: "in all", number: true, class: "total", of: (r) => r.model && r.model.total },
  { name: "overhead", title: "Over native", number: true, of: (r) => r.overhead, show: percent },
  { name: "exits_by", title: "Exits by reason", of: exitsBy },
];

/** The columns that say something of these rows. */
function usedColumns(columns, rows) {
  return columns.filter((c) => c.name !== "policy" || rows.some((r) => manyPolicies.has(r.paging)))
    .filter((c) => !["size", "overhead"].includes(c.name) || rows.some((r) => c.of(r) != null));
}

function leastTotals(rows) {
  const least = new Map();
  for (const r of rows) {
    const key = benchName(r), total = r.model && r.model.total;
    if (total != null && r.paging !== "native") least.set(key, Math.min(least.get(key) ?? Infinity, total));
  }
  return least;
}

function countsTable(name, rows, label) {
  const least = leastTotals(rows);
  return table(name, usedColumns(BENCH_COLUMNS, rows), rows, {
    label, group: (r) => benchName(r), best: (r) => r.model && r.model.total != null && r.model.total === least.get(benchName(r)),
  });
}

function drawTable() {
  const parent = section("counts", "All counts");
  if (!data.bench.length) {
    parent.append(missing("bench"));
    return;
  }
  parent.append(prose("Everything per operation. Instructions (of guest and hypervisor), exits and references are counted and repeat exactly; cycles are modelled from them. "
    + "TLB misses are the guest's count of accesses to another page than the one before, the most that can miss. The least total of each benchmark is bold."));
  const place = make("div", {}), steps = make("div", {});
  let phase = "steady", bench = "", rows = [];
  const show = () => {
    rows = inOrder(data.bench.filter((r) => r.phase === phase && (!bench || r.bench === bench || r.bench.startsWith(`${bench}.`))));
    const whole = rows.filter(isWhole), single = rows.filter((r) => !isWhole(r));
    place.replaceChildren(...(whole.length ? [countsTable("bench", whole, `All counts, ${phase}`)] : []));
    steps.replaceChildren(...(single.length ? [make("details", { open: bench ? true : null, id: "steps" },
      make("summary", {}, "Loops and steps of a single operation"),
      countsTable("steps", single, `Counts of single operations, ${phase}`))] : []));
  };
  const names = [...new Set(data.bench.map((r) => r.bench.split(".")[0]))];
  parent.append(make("div", { class: "controls" },
    chooser("counts-bench", "Benchmark", [["", "all"], ...names.map((n) => [n, n])], "", (v) => { bench = v; show(); }),
    chooser("counts-phase", "Phase", [["steady", "steady state"], ["warmup", "warm-up"]], "steady", (v) => { phase = v; show(); }),
    csvButton("bench", [{ name: "phase", of: (r) => r.phase }, ...BENCH_COLUMNS], () => rows)), place, steps);
  show();
}

// --- growth --------------------------------------------------------------------------------------------------

function drawGrowthChart(svg, width, series) {
  const margin = { left: 52, right: 96, top: 24, bottom: 40 }, height = 280;
  const all = series.flatMap((s) => s.rows);
  const x = d3.scaleLog(d3.extent(all, (r) => r.size), [margin.left, width - margin.right]);
  const low = d3.min(all, (r) => r.model.total), high = d3.max(all, (r) => r.model.total);
  const y = d3.scaleLog([low / 1.15, high * 1.15], [height - margin.bottom, margin.top]);
  const sizes = [...new Set(all.map((r) => r.size))].sort((a, b) => a - b);
  axes(svg, width, height, margin, x, y, {
    xTitle: all[0].size_unit || "size", yTitle: "cycles an operation", xValues: sizes, xFormat: ",", yFormat: ",~f", yTicks: 4,
  });
  const labels = [];
  for (const s of series) {
    const key = paint(s.rows[0].paging);
    svg.append("path").attr("class", `curve line-${key}`).attr("data-mode", s.mode)
      .attr("d", d3.line().x((r) => x(r.size)).y((r) => y(r.model.total))(s.rows));
    const hollow = s.rows[0].ept_page === "4k" && s.rows[0].paging !== "shadow";
    svg.append("g").selectAll("path").data(s.rows).join("path").attr("class", `mark ${hollow ? "hollow line-" : "paint-"}${key}`)
      .attr("transform", (r) => `translate(${x(r.size)},${y(r.model.total)})`).attr("d", symbol(key))
      .attr("data-mode", s.mode).attr("data-size", (r) => r.size).attr("data-value", (r) => r.model.total)
      .attr("data-say", (r) => `${benchName(r)}, ${s.mode}\n${number(r.model.total)} cycles an operation`);
    const last = s.rows[s.rows.length - 1];
    labels.push({ text: s.mode, key, y: y(last.model.total) + 4 });
  }
  spread(labels, 13, margin.top, height - margin.bottom);
  svg.append("g").selectAll("text").data(labels).join("text").attr("class", (l) => `ink-${l.key}`)
    .attr("x", width - margin.right + 10).attr("y", (l) => l.y).text((l) => l.text);
  return height;
}

function drawGrowth() {
  const parent = section("growth", "Growth");
  const rows = oneShadow(inOrder(data.bench.filter((r) => r.phase === "steady" && r.size != null && r.size > 0 && isWhole(r) && r.model && r.model.total != null)));
  const groups = d3.nest().key((r) => r.bench).entries(rows).filter((g) => new Set(g.values.map((r) => r.size)).size > 1);
  if (!groups.length) {
    parent.append(data.bench.length
      ? make("div", { class: "missing", "data-missing": "sizes" }, make("p", {}, "Each benchmark ran in one size only. ", make("code", {}, "make bench"), " runs several."))
      : missing("bench"));
    return;
  }
  parent.append(prose("Modelled cycles an operation over the benchmark's size, in steady state; both axes are logarithmic. Hollow marks: EPT pages of 4 KiB. Modes that ran in one size only are left out."));
  parent.append(make("div", { class: "cards" }, groups.map((g) => {
    const series = d3.nest().key(modeName).entries(g.values).map((s) => ({ mode: s.key, rows: s.values })).filter((s) => s.rows.length > 1);
    return make("div", { class: "card" }, chart({
      name: `growth-${g.key}`, title: g.key, label: `Growth of ${g.key}`,
      columns: [
        { name: "mode", title: "Mode", of: modeName }, { name: "size", title: "Size", number: true, of: (r) => r.size },
        { name: "total", title: "Cycles an operation", number: true, of: (r) => r.model.total },
        { name: "ticks_per_op", title: "Instructions", number: true, of: (r) => r.ticks_per_op },
        { name: "exits_per_op", title: "Exits", number: true, of: (r) => r.exits_per_op },
        { name: "refs", title: "References", number: true, of: (r) => r.refs }],
      rows: () => g.values, draw: (svg, width) => drawGrowthChart(svg, width, series),
    }));
  })));
}

// --- sensitivity ---------------------------------------------------------------------------------------------

const lineAt = (line, x) => line.base + line.slope * x;

function rangeText(range) {
  if (!range) return "nowhere";
  if (range.high == null) return range.low === 0 ? "everywhere" : `from ${number(range.low)}`;
  return range.low === 0 ? `to ${number(range.high)}` : `${number(range.low)} to ${number(range.high)}`;
}

function sweepPoints(s) {
  const xs = d3.range(25).map((i) => (s.end * i) / 24);
  return xs.map((x) => ({ x, ...Object.fromEntries([...TECHNIQUES, ...(s.native ? ["native"] : [])].map((t) => [t, lineAt(t === "native" ? s.native : s.lines[t], x)])) }));
}

/** What is drawn: the overhead where native is known, else the total. */
function sweepValue(s, p, technique) {
  return s.native && p.native > 0 ? p[technique] / p.native - 1 : p[technique];
}

function drawSweep(svg, width, s) {
  const margin = { left: 56, right: 84, top: 36, bottom: 40 }, height = 308;
  const points = sweepPoints(s).filter((p) => !s.native || p.native > 0);
  const values = points.flatMap((p) => TECHNIQUES.map((t) => sweepValue(s, p, t)));
  const x = d3.scaleLinear([0, s.end], [margin.left, width - margin.right]);
  const y = d3.scaleLinear([Math.min(0, d3.min(values)), d3.max(values) || 1], [height - margin.bottom, margin.top]).nice(5);
  axes(svg, width, height, margin, x, y, {
    xTitle: PER[s.parameter], yTitle: s.native ? "over native" : "cycles an operation",
    yFormat: s.native ? ",.0%" : ",~f", xFormat: ",d",
  });
  const range = s.wins_about;
  if (range && range.low <= s.end) {
    const to = Math.min(range.high ?? s.end, s.end);
    svg.append("rect").attr("class", "band").attr("x", x(range.low)).attr("width", x(to) - x(range.low))
      .attr("y", margin.top).attr("height", height - margin.top - margin.bottom);
  }
  svg.append("line").attr("class", "now-line").attr("x1", x(s.now)).attr("x2", x(s.now)).attr("y1", margin.top).attr("y2", height - margin.bottom);
  svg.append("text").attr("class", "soft").attr("x", x(s.now)).attr("y", margin.top - 5).attr("text-anchor", "middle").text(`model: ${number(s.now)}`);
  const evens = s.wins ? [s.wins.low, s.wins.high].filter((v) => v != null && v > 0 && v <= s.end) : [];
  for (const even of evens) {
    svg.append("line").attr("class", "event-line mark").attr("data-break-even", even).attr("x1", x(even)).attr("x2", x(even))
      .attr("y1", margin.top).attr("y2", height - margin.bottom).attr("data-say", `Break-even at ${number(even)} ${PER[s.parameter]}`);
    svg.append("text").attr("class", "ink-compound").attr("x", x(even) + 5).attr("y", margin.top + 12 + 15 * evens.indexOf(even)).text(`break-even ${number(even)}`);
  }
  const labels = [];
  for (const t of TECHNIQUES) {
    svg.append("path").attr("class", `curve line-${t}`).attr("data-mode", t)
      .attr("d", d3.line().x((p) => x(p.x)).y((p) => y(sweepValue(s, p, t)))(points));
    svg.append("g").selectAll("path").data(points.filter((p, i) => i % 4 === 0)).join("path").attr("class", `mark paint-${t}`)
      .attr("transform", (p) => `translate(${x(p.x)},${y(sweepValue(s, p, t))})`).attr("d", symbol(t))
      .attr("data-mode", t).attr("data-x", (p) => p.x).attr("data-value", (p) => p[t])
      .attr("data-say", (p) => `${t} at ${number(p.x)}: ${number(p[t])} cycles an operation` + (s.native ? `, ${percent(sweepValue(s, p, t))} over native` : ""));
    labels.push({ text: t, key: t, y: y(sweepValue(s, points[points.length - 1], t)) + 4 });
  }
  spread(labels, 13, margin.top, height - margin.bottom);
  svg.append("g").selectAll("text").data(labels).join("text").attr("class", (l) => `ink-${l.key}`)
    .attr("x", width - margin.right + 8).attr("y", (l) => l.y).text((l) => l.text);
  return height;
}

function sweepChart(s) {
  const columns = [
    { name: "x", title: PARAMETER[s.parameter], number: true, of: (p) => p.x },
    ...[...TECHNIQUES, ...(s.native ? ["native"] : [])].map((t) => ({ name: t, title: t, number: true, of: (p) => p[t] }))];
  return make("div", { class: "card" }, chart({
    name: `sensitivity-${s.parameter}`, title: PARAMETER[s.parameter],
    note: `Compound is no worse than the better of nested and shadow: ${rangeText(s.wins)}; within ${number(data.model.tolerance * 100)} %: ${rangeText(s.wins_about)}`,
    label: `Sensitivity of ${benchName(s)} to ${PER[s.parameter]}`,
    columns, rows: () => sweepPoints(s), draw: (svg, width) => drawSweep(svg, width, s),
  }));
}

const SENSITIVITY_CSV = [
  { name: "bench", of: (s) => s.bench }, { name: "size", of: (s) => s.size }, { name: "ept_page", of: (s) => s.ept_page },
  { name: "parameter", of: (s) => s.parameter }, { name: "now", of: (s) => s.now },
  { name: "gain_now", of: (s) => s.gain_now }, { name: "best_now", of: (s) => s.best_now },
  ...["wins", "wins_about"].flatMap((range) => [
    { name: range, of: (s) => Boolean(s[range]) },
    { name: `${range}_low`, of: (s) => s[range] && s[range].low }, { name: `${range}_high`, of: (s) => s[range] && s[range].high }]),
  ...TECHNIQUES.flatMap((t) => ["base", "slope"].map((p) => ({ name: `${t}_${p}`, of: (s) => s.lines[t][p] }))),
];

/** A row for each benchmark and EPT page, with both parameters' ranges. */
function sensitivityRows(list) {
  const rows = new Map();
  for (const s of list) {
    const key = sweepKey(s);
    if (!rows.has(key)) rows.set(key, { ...s, by: {} });
    rows.get(key).by[s.parameter] = s;
  }
  return [...rows.values()];
}

const sweepKey = (s) => JSON.stringify([s.bench, s.size, s.ept_page]);

function sensitivityColumns() {
  const range = (parameter, kind, title) => ({
    name: `${parameter}_${kind}`, title, number: true, of: (s) => s.by[parameter] && s.by[parameter][kind],
    show: (v, s) => (s.by[parameter] ? rangeText(v) : "–"),
  });
  return [
    { name: "bench", title: "Benchmark", of: (s) => s.bench },
    { name: "size", title: "Size", of: (s) => s.size, show: (v, s) => sizeName(s) || "–" },
    { name: "ept_page", title: "EPT", of: (s) => s.ept_page },
    { name: "gain_now", title: "Gain with the model's costs", number: true, of: (s) => s.gain_now, show: percent },
    { name: "best_now", title: "over", of: (s) => s.best_now },
    range("cycles_per_exit", "wins", "Wins at exit costs"), range("cycles_per_exit", "wins_about", "within 1 %"),
    range("cycles_per_reference", "wins", "Wins at reference costs"), range("cycles_per_reference", "wins_about", "within 1 %"),
  ];
}

function drawSensitivity() {
  const parent = section("sensitivity", "Sensitivity");
  const whole = data.sensitivity;
  if (!whole.length) {
    parent.append(data.bench.length ? prose("Nothing to compare: a benchmark needs nested, shadow and compound records.") : missing("bench"));
    return;
  }
  parent.append(prose("At which cost of a VM exit, or of a memory reference, does compound stop winning against the better of nested and shadow? "
    + "Modelled totals are straight lines over each, so the break-even is exact. The counts are those of one run, whose policy decided by the model's own costs: "
    + "a policy that is told other costs decides otherwise, which a run with another processor shows (", make("code", {}, "scripts/run --processor"), ")."));
  const charts = make("div", { class: "pair", id: "sensitivity-charts" });
  const keys = [...new Map(whole.map((s) => [sweepKey(s), s])).entries()];
  const show = (key) => charts.replaceChildren(...whole.filter((s) => sweepKey(s) === key).map(sweepChart));
  const first = (keys.find(([, s]) => s.bench === "mixed" && s.ept_page === "2m") || keys.find(([, s]) => s.bench === "mixed") || keys[0])[0];
  parent.append(make("div", { class: "controls" }, chooser("sensitivity-of", "Benchmark",
    keys.map(([key, s]) => [key, `${benchName(s)}, EPT pages of ${PAGE_NAME[s.ept_page]}`]), first, show)));
  parent.append(legend(TECHNIQUES.map((t) => ["line", t, t])), charts,
    make("div", { class: "tools" }, csvButton("sensitivity", SENSITIVITY_CSV, () => whole)),
    table("sensitivity", usedColumns(sensitivityColumns(), whole), sensitivityRows(whole), { label: "Where compound wins", group: (s) => s.bench }),
    make("p", { class: "note" }, "Where the exact range and the one within 1 % differ much, the totals are all but the same: compound has ended in shadow paging and pays a few instructions more or less."));
  show(first);
}

// --- the map of regions --------------------------------------------------------------------------------------

function mapSpans(map) {
  return map.rows.flatMap((row) => row.spans.map(([from, to, state]) => ({ va: row.va, from, to, state })));
}

/** Regions that follow one another stand together, others apart. */
function mapLayout(map, top, step, gap) {
  let y = top, before = null;
  return map.rows.map((row) => {
    const va = parseInt(row.va, 16);
    if (before !== null && va !== before + 0x200000) y += gap;
    before = va;
    const at = y;
    y += step;
    return { ...row, y: at, bottom: y };
  });
}

function drawMap(svg, width, map) {
  const step = Math.max(8, Math.min(16, Math.floor(420 / map.rows.length))), gap = 8, margin = { left: 128, right: 12, top: 46, bottom: 40 };
  const rows = mapLayout(map, margin.top, step, gap);
  const bottom = rows[rows.length - 1].bottom, height = bottom + margin.bottom;
  const x = d3.scaleLinear([0, map.end], [margin.left, width - margin.right]);
  const rect = (spans, y, h, fill, say) => svg.append("g").selectAll("rect").data(spans).join("rect").attr("class", "mark")
    .attr("x", ([from]) => x(from)).attr("width", ([from, to]) => Math.max(0.75, x(to) - x(from))).attr("y", y).attr("height", h)
    .attr("fill", ([, , state]) => `url(#fill-${fill(state)})`).attr("data-state", ([, , state]) => state)
    .attr("data-from", ([from]) => from).attr("data-to", ([, to]) => to).attr("data-say", say);
  const when = ([from, to]) => `${d3.format(",")(from)} to ${d3.format(",")(to)}`;
  svg.append("text").attr("x", margin.left - 8).attr("y", 24).attr("text-anchor", "end").text("the root");
  rect(map.root, 12, 16, (s) => s, (d) => `The root is ${ROOT_STATE[d[2]]}\n${when(d)}`);
  svg.append("text").attr("class", "soft").attr("x", margin.left - 8).attr("y", 40).attr("text-anchor", "end").text("region of 2 MiB at");
  let labelled = -Infinity;
  for (const row of rows) {
    rect(row.spans, row.y, step - 1, (s) => s, (d) => `${row.va}: ${HANDLING[d[2]]}\n${when(d)}`).attr("data-va", row.va);
    if (row.y - labelled < 13) continue;
    labelled = row.y;
    svg.append("text").attr("class", "soft").attr("x", margin.left - 8).attr("y", row.y + step / 2 + 4).attr("text-anchor", "end").text(row.va);
  }
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${bottom + 4})`).call(d3.axisBottom(x).ticks(Math.max(3, width / 120))
    .tickFormat((d) => (d === 0 ? "0" : d3.format("~s")(d))).tickSizeOuter(0));
  svg.append("text").attr("class", "soft").attr("x", (margin.left + width) / 2).attr("y", height - 4).attr("text-anchor", "middle")
    .text("the guest's own time, instructions");
  return height;
}

function drawMaps() {
  const parent = section("regions", "Regions over time");
  if (!data.maps.length) {
    parent.append(data.sources.find((s) => s.name === "trace").records == null ? missing("trace")
      : prose("The trace has no event of phases or mixed under compound paging that says which region it is about."));
    return;
  }
  parent.append(prose("How each region of 2 MiB was handled while the guest ran: regions down, time across. Above them, how the address space as a whole was walked. "
    + "Time is the guest's own: what exits take is left out."));
  const states = ["shadow", "nested", "unsync", "root", "unused"].filter((s) => s !== "unsync" || data.maps.some((m) => m.rows.some((r) => r.spans.some((x) => x[2] === s))));
  parent.append(legend([...states.map((s) => ["fill", s, HANDLING[s]]), ["fill", "compound", "root: compound"]]));
  const columns = [
    { name: "va", title: "Region", of: (s) => s.va }, { name: "from", title: "From", number: true, of: (s) => s.from, show: d3.format(",") },
    { name: "to", title: "To", number: true, of: (s) => s.to, show: d3.format(",") },
    { name: "state", title: "Handling", of: (s) => s.state, show: (v) => HANDLING[v] || v }];
  for (const map of data.maps) {
    const notes = [`${map.rows.length} regions, ${map.events} changes`];
    if (!map.complete) notes.push("the oldest events are lost: what came before is not known");
    if (map.other_roots) notes.push(`${map.other_roots} other address spaces are not shown`);
    parent.append(make("div", { class: "card" }, chart({
      name: `map-${map.vm}`, title: map.vm, note: notes.join("; "), label: `Handling of the regions of ${map.vm} over time`,
      columns, rows: () => mapSpans(map), draw: (svg, width) => drawMap(svg, width, map),
    })));
  }
}

// --- walksim -------------------------------------------------------------------------------------------------

function flat(record) {
  const out = {};
  for (const [key, value] of Object.entries(record)) {
    if (value && typeof value === "object" && !Array.isArray(value)) for (const [k, v] of Object.entries(value)) out[`${key}.${k}`] = v;
    else out[key] = value;
  }
  return out;
}

/** Fields by which records are told apart beside trace and technique, and those that are numbers. */
function walksimFields(rows) {
  const names = [...new Set(rows.flatMap((r) => Object.keys(r)))].filter((n) => n !== "trace" && n !== "technique");
  const is = (kind) => (name) => rows.some((r) => typeof r[name] === kind);
  const choices = names.filter(is("string")).map((name) => [name, [...new Set(rows.map((r) => r[name]))]]);
  return { choices: choices.filter(([, values]) => values.length > 1), numbers: names.filter(is("number")) };
}

const words = (name) => name.replace(/[_.]/g, " ");

/** The number that a trace's bars show first: the modelled total, else references, else whichever there is. */
function firstNumber(names) {
  for (const wanted of [/overhead/, /total/, /cycles/, /refs|references/]) {
    const found = names.find((n) => wanted.test(n));
    if (found) return found;
  }
  return names[0];
}

function drawTechniques(svg, width, rows, name) {
  const margin = { left: 104, right: 64, top: 4, bottom: 24 }, step = 24;
  const height = margin.top + rows.length * step + margin.bottom;
  const x = d3.scaleLinear([Math.min(0, d3.min(rows, (r) => r[name])), d3.max(rows, (r) => r[name]) || 1], [margin.left, width - margin.right]);
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - margin.bottom})`)
    .call(d3.axisBottom(x).ticks(4, "~s").tickSizeOuter(0));
  rows.forEach((r, i) => {
    const y = margin.top + i * step, [low, high] = [0, r[name]].sort(d3.ascending);
    const key = TECHNIQUES.includes(r.technique) ? `url(#fill-${r.technique})` : `var(--${r.technique === "native" ? "native" : "instructions"})`;
    svg.append("text").attr("x", margin.left - 8).attr("y", y + 15).attr("text-anchor", "end").text(r.technique);
    svg.append("rect").attr("class", "mark").attr("x", x(low)).attr("width", Math.max(0.5, x(high) - x(low))).attr("y", y + 3).attr("height", step - 7)
      .attr("fill", key).attr("data-mode", r.technique).attr("data-value", r[name]).attr("data-say", `${r.trace}, ${r.technique}\n${words(name)}: ${number(r[name])}`);
    svg.append("text").attr("x", x(high) + 6).attr("y", y + 15).text(number(r[name]));
  });
  return height;
}

function drawWalksim() {
  const parent = section("walksim", "Traces");
  if (!data.walksim.length) {
    parent.append(missing("walksim"));
    return;
  }
  const rows = data.walksim.map(flat), names = [...new Set(rows.flatMap((r) => Object.keys(r)))];
  const { choices, numbers } = walksimFields(rows);
  const columns = names.map((name) => ({
    name, title: words(name), number: rows.some((r) => typeof r[name] === "number"), of: (r) => r[name],
    show: (v) => (typeof v === "number" ? number(v) : v == null ? "–" : typeof v === "object" ? JSON.stringify(v) : String(v)),
  }));
  const chosen = Object.fromEntries(choices.map(([name, values]) => [name, values[0]]));
  let shown = firstNumber(numbers);
  const cards = make("div", { class: "cards", id: "walksim-cards" }), place = make("div", {});
  let picked = [];
  const show = () => {
    picked = rows.filter((r) => choices.every(([name]) => r[name] === chosen[name]));
    const groups = d3.nest().key((r) => r.trace).entries(picked.filter((r) => typeof r[shown] === "number"));
    cards.replaceChildren(...groups.map((g) => make("div", { class: "card" }, chart({
      name: `walksim-${g.key}`, title: g.key, label: `${words(shown)} of ${g.key}, by technique`,
      columns: columns.filter((c) => c.name === "technique" || c.number), rows: () => g.values,
      draw: (svg, width) => drawTechniques(svg, width, g.values, shown),
    }))));
    place.replaceChildren(table("walksim", columns, picked, { label: "Traces", group: (r) => r.trace }));
  };
  parent.append(prose("Traces of memory accesses and page-table changes, driven through the hypervisor's own paging code and a model of a processor's TLB and walk caches."));
  parent.append(make("div", { class: "controls" },
    numbers.length ? chooser("walksim-number", "Bars show", numbers.map((n) => [n, words(n)]), shown, (v) => { shown = v; show(); }) : null,
    choices.map(([name, values]) => chooser(`walksim-${name}`, words(name), values.map((v) => [v, String(v)]), chosen[name], (v) => { chosen[name] = v; show(); })),
    csvButton("walksim", columns, () => rows)), cards, make("div", { class: "gap" }), place);
  show();
}

// --- KVM -----------------------------------------------------------------------------------------------------

const PEERS = ["nested", "shadow", "compound", "kvm-ept", "kvm-shadow"];

function drawPeerChart(svg, width, rows, what) {
  const margin = { left: 92, right: 68, top: 4, bottom: 26 }, step = 22;
  const height = margin.top + rows.length * step + margin.bottom;
  const values = rows.map(what).filter((v) => v > 0);
  const x = d3.scaleLog([d3.min(values) / 1.3, d3.max(values) * 1.1], [margin.left, width - margin.right]);
  const powers = x.ticks(3).filter((t) => Number.isInteger(Math.log10(t)));
  const ticks = powers.length > 1 ? powers : x.domain();
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - margin.bottom})`)
    .call(d3.axisBottom(x).tickValues(ticks).tickFormat(number).tickSizeOuter(0));
  rows.forEach((r, i) => {
    const y = margin.top + i * step + step / 2, v = what(r), key = paint(r.paging);
    svg.append("text").attr("x", margin.left - 8).attr("y", y + 4).attr("text-anchor", "end").text(modeName(r));
    svg.append("g").attr("class", "grid").append("line").attr("x1", margin.left).attr("x2", width - margin.right).attr("y1", y).attr("y2", y);
    svg.append("path").attr("class", `mark paint-${key}`).attr("d", symbol(key).size(80)).attr("transform", `translate(${x(v)},${y})`)
      .attr("data-mode", modeName(r)).attr("data-value", v).attr("data-say", `${benchName(r)}, ${modeName(r)}\n${number(v)} an operation`);
    svg.append("text").attr("x", Math.min(x(v) + 9, width - margin.right + 6)).attr("y", y + 4).text(number(v));
  });
  return height;
}

const KVM_COLUMNS = BENCH_COLUMNS.filter((c) => !["overhead"].includes(c.name));

function drawKvm() {
  const parent = section("kvm", "KVM beside Twofold");
  if (!data.kvm.length) {
    parent.append(missing("kvm"));
    return;
  }
  const benches = new Set(data.kvm.map((r) => r.bench));
  const rows = inOrder(oneShadow([...data.bench.filter((r) => r.usual), ...data.kvm].filter((r) =>
    r.phase === "steady" && benches.has(r.bench) && PEERS.includes(r.paging))).map((r) => ({ ...r, size: null, size_unit: null })));
  parent.append(prose("The same guest images under Linux' KVM with and without EPT, on the same emulated machine. Instructions an operation, of guest and hypervisor together, on a logarithmic scale. "
    + "KVM's references a miss are derived from its page sizes, not audited on its tables. KVM ran each benchmark in its own default size; Twofold's records are of the size that stands for it above."));
  const groups = d3.nest().key(benchName).entries(rows.filter((r) => isWhole(r) && r.ticks_per_op > 0));
  parent.append(make("div", { class: "cards" }, groups.filter((g) => g.values.some((r) => r.paging.startsWith("kvm"))).map((g) => make("div", { class: "card" }, chart({
    name: `kvm-${g.key}`, title: g.key, label: `Instructions of ${g.key}, Twofold and KVM`,
    columns: KVM_COLUMNS.slice(2), rows: () => g.values, draw: (svg, width) => drawPeerChart(svg, width, g.values, (r) => r.ticks_per_op),
  })))));
  parent.append(make("div", { class: "tools gap" }, csvButton("kvm", KVM_COLUMNS, () => rows)),
    table("kvm", usedColumns(KVM_COLUMNS, rows), rows, { label: "KVM beside Twofold", group: benchName }));
}

// --- the model, and what the numbers are ---------------------------------------------------------------------

function drawModel() {
  const rows = data.processors.flatMap((p) => p.parameters.map((q) => ({ ...q, processor: p.processor, title: p.title })));
  section("model", "The model",
    prose("cycles = instructions × cycles an instruction + VM exits × cycles an exit + TLB misses × references a miss × cycles a reference. This page uses ",
      make("strong", {}, data.model.title), "; the others are there to choose (", make("code", {}, "scripts/report --processor"), ")."),
    table("model", [
      { name: "processor", title: "Processor", of: (r) => r.processor, show: (v, r) => (r.processor === data.model.processor ? `${r.title} (this page)` : r.title) },
      { name: "key", title: "Parameter", of: (r) => r.key, show: (v) => PARAMETER[v] },
      { name: "value", title: "Value", number: true, of: (r) => r.value },
      { name: "source", title: "Source", class: "wrap", of: (r) => r.source },
    ], rows, { label: "The model's parameters", group: (r) => r.processor }));
}

const MACHINE = {
  bochs: "Bochs, an emulator: ticks are instructions and repeat exactly",
  qemu: "QEMU's emulation: ticks are its clock",
  kvm: "a processor under QEMU/KVM: ticks are TSC cycles",
};

function drawOrigin() {
  const machines = new Map();
  for (const r of [...data.bench, ...data.kvm]) machines.set(r.machine ?? "", (machines.get(r.machine ?? "") || 0) + 1);
  section("origin", "What these numbers are",
    make("ul", { class: "plain" },
      [...machines].map(([name, count]) => make("li", {}, `${d3.format(",")(count)} records from ${MACHINE[name] || (name ? name : "a machine that the records do not name; ticks are taken for instructions")}.`)),
      make("li", {}, "Counted: instructions, VM exits by reason, trapped stores, and the references of a walk, which the hypervisor finds by walking the guest's live tables and EPT as the processor would."),
      make("li", {}, "Modelled: every number of cycles. Where no processor with VT-x was at hand, nothing here is a measured time, and an emulator's seconds are nowhere on this page.")),
    make("h3", {}, "What they cannot tell"),
    make("ul", { class: "plain" },
      make("li", {}, "How often a TLB misses: an access to another page than the one before counts as a miss. Real TLBs hold hundreds of pages, so walks weigh less than here, most on small sizes."),
      make("li", {}, "What walk caches save: every reference of a walk costs the same mean. On processors the upper levels are nearly free and the leaf's references carry the cost."),
      make("li", {}, "What a VM exit does to caches and branch predictors afterwards."),
      make("li", {}, "How other policies would have decided at other costs: the sensitivity keeps the counts of one run.")),
    make("h3", {}, "What there is"),
    table("sources", [
      { name: "file", title: "File", of: (s) => s.file }, { name: "what", title: "What", class: "wrap", of: (s) => s.what },
      { name: "records", title: "Records", number: true, of: (s) => s.records, show: (v) => (v == null ? "missing" : d3.format(",")(v)) },
      { name: "command", title: "Made by", of: (s) => s.command }], data.sources, { label: "Files that this page was made from" }));
}

// --- head ----------------------------------------------------------------------------------------------------

const THEMES = [["auto", "Theme: as the system"], ["light", "Theme: light"], ["dark", "Theme: dark"]];

function remembered() {
  try {
    return localStorage.getItem("twofold-theme");
  } catch (_) {
    return null; // pages from disk may not be allowed to
  }
}

function setUpTheme() {
  const button = document.getElementById("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  let at = Math.max(0, THEMES.findIndex(([name]) => name === remembered()));
  const apply = () => {
    const [name, text] = THEMES[at];
    button.textContent = text;
    document.documentElement.dataset.theme = name === "auto" ? (dark.matches ? "dark" : "light") : name;
  };
  button.addEventListener("click", () => {
    at = (at + 1) % THEMES.length;
    try {
      localStorage.setItem("twofold-theme", THEMES[at][0]);
    } catch (_) { /* it is then forgotten */ }
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

function setUpHead() {
  const made = [];
  if (data.made.data) made.push(`Records of ${data.made.data}`);
  if (data.made.revision) made.push(`page made at revision ${data.made.revision}`);
  made.push(data.model.describe);
  document.getElementById("made").textContent = made.join(" · ");
  document.getElementById("download-json").addEventListener("click", () =>
    download("twofold-report.json", "application/json", JSON.stringify(data, null, 1) + "\n"));
  document.getElementById("print").addEventListener("click", () => print());
}

setUpTheme();
setUpHead();
drawSummary();
drawOverhead();
drawTable();
drawGrowth();
drawSensitivity();
drawMaps();
drawWalksim();
drawKvm();
drawModel();
drawOrigin();
