#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The report's page in a headless Chromium, from disk: it draws, says what the data says, asks nobody, can be read and
used by all. Runs by Debian's own Python, whose package python3-selenium is.
"""

import csv
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from checks import DATA, ROOT, equal, expect, run, tests_of  # noqa: E402
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402
from twofold import model, page, regions, results  # noqa: E402

FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync --hide-scrollbars").split()
WIDE, PHONE, PAPER = 1280, 360, 720  # CSS pixels; A4 less its margins
TEXT_CONTRAST, MARK_CONTRAST = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11
DRAWN_SECONDS = 5


class Browser:
    """One Chromium for all tests, and the pages in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*FLAGS, f"--user-data-dir={folder}/profile"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.run = self.driver.execute_script
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def page_of(self, name):
        return self.folder / f"{name}.html"

    def open(self, name, width=WIDE, scheme="light", media=""):
        """A fresh page, drawn."""
        self.command("Emulation.setEmulatedMedia", media=media,
                     features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.driver.get(self.page_of(name).as_uri())
        self.run("try { localStorage.clear(); } catch (_) {}")
        self.drawn()

    def drawn(self):
        """Wait for each chart's picture: it is made before the next frame."""
        WebDriverWait(self.driver, DRAWN_SECONDS, 0.02).until(
            lambda d: d.execute_script("return [...document.querySelectorAll('.plot')].every(p => p.querySelector('svg[viewBox]'))"))

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def cells(self, table):
        """A table's rows: by column the whole value and what is shown."""
        return self.run("""
            return [...document.querySelectorAll(`[data-table="${arguments[0]}"] tbody tr`)].map(tr =>
                Object.fromEntries([...tr.children].map(c => [c.dataset.column, [c.dataset.value, c.textContent]])));""", table)

    def marks(self, chart):
        """A chart's marks: their data and their boxes."""
        return self.run("""
            return [...document.querySelectorAll(`[data-chart="${arguments[0]}"] .mark`)].map(m => {
                const b = m.getBoundingClientRect();
                return {...m.dataset, x: b.x, width: b.width, height: b.height}; });""", chart)

    def data(self):
        return self.run("return JSON.parse(document.getElementById('data').textContent)")


def close(got, wanted, what):
    expect(got not in ("", None) and abs(float(got) - wanted) <= 1e-9 * max(1, abs(wanted)), f"{what}: {got}, not {wanted}")


def bench_records(name):
    return results.read_bench(DATA / name / "bench.jsonl")


# --- it loads -------------------------------------------------------------------------------------------------


def test_says_nothing_on_the_console_and_asks_nobody(browser):
    for name in ("bochs", "synthetic", "empty"):
        browser.driver.get_log("browser")
        browser.driver.get_log("performance")
        browser.open(name)
        equal(browser.driver.get_log("browser"), [], f"{name}: the console")
        messages = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
        # The browser's own first page may still be asking when ours is opened.
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"
                 and not m["params"]["documentURL"].startswith(("chrome:", "chrome-"))]
        others = [url for url in asked if url != browser.page_of(name).as_uri() and not url.startswith("data:")]
        equal(others, [], f"{name}: requests")
        expect(browser.page_of(name).as_uri() in asked, "the log does not even have the page")


def test_the_policy_would_stop_a_request(browser):
    browser.open("empty")
    browser.run("window.stopped = 0; addEventListener('securitypolicyviolation', () => window.stopped++);"
                "fetch('http://192.0.2.1/').catch(() => {}); new Image().src = 'http://192.0.2.1/';")
    WebDriverWait(browser.driver, 2, 0.02).until(lambda d: d.execute_script("return window.stopped") == 2)
    browser.driver.get_log("browser")


def test_charts_draw(browser):
    wanted = {
        "synthetic": ["overhead-grow", "overhead-plain", "growth-grow", "sensitivity-cycles_per_exit",
                      "sensitivity-cycles_per_reference", "map-phases.compound.2m", "kvm-plain", "walksim-one", "walksim-two"],
        "bochs": ["growth-touch", "overhead-mixed", "overhead-phases", "overhead-touch", "sensitivity-cycles_per_exit",
                  "sensitivity-cycles_per_reference", "map-phases.compound.2m", "map-mixed.compound.2m"],
    }
    for name, charts in wanted.items():
        browser.open(name)
        found = browser.run("return [...document.querySelectorAll('[data-chart]')].map(p => p.dataset.chart)")
        equal(sorted(found), sorted(charts), f"{name}: charts")
        for chart in charts:
            marks = browser.marks(chart)
            seen = [m for m in marks if m["height"] > 0 and (m["width"] > 0 or "breakEven" in m)]
            expect(len(seen) >= 3 and len(seen) == len(marks), f"{name}: {chart}: {len(seen)} of {len(marks)} marks are seen")


def test_charts_have_pixels(browser):
    """Not only elements: the picture of a chart has the colours of its parts."""
    browser.open("bochs")
    seen = browser.run("""
        const done = arguments[0], svg = document.querySelector('[data-chart="overhead-mixed"] svg');
        const style = getComputedStyle(document.documentElement);
        return ['--instructions', '--exits', '--walks'].map(n => style.getPropertyValue(n).trim());""")
    box = browser.run("""
        const p = document.querySelector('[data-chart="overhead-mixed"]'); p.scrollIntoView();
        const b = p.getBoundingClientRect(); return [b.x + scrollX, b.y + scrollY, b.width, b.height];""")
    shot = browser.command("Page.captureScreenshot", captureBeyondViewport=True,
                           clip={"x": box[0], "y": box[1], "width": box[2], "height": box[3], "scale": 1})
    counts = browser.driver.execute_async_script("""
        const [png, colours, done] = arguments, image = new Image();
        image.onload = () => {
            const canvas = document.createElement('canvas');
            canvas.width = image.width; canvas.height = image.height;
            const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
            const d = context.getImageData(0, 0, canvas.width, canvas.height).data;
            const near = colours.map(c => [1, 3, 5].map(i => parseInt(c.substr(i, 2), 16)));
            const counts = near.map(() => 0);
            for (let i = 0; i < d.length; i += 4)
                near.forEach((c, n) => { if (c.every((v, k) => Math.abs(v - d[i + k]) < 6)) counts[n]++; });
            done(counts);
        };
        image.src = 'data:image/png;base64,' + png;""", shot["data"], seen)
    expect(all(count > 100 for count in counts), f"pixels of instructions, exits, walks: {counts}")


def test_missing_files_are_told_with_their_command(browser):
    browser.open("empty")
    text = browser.one("main").text
    for command in ("make bench", "make walksim", "make bench-kvm"):
        expect(command in text, f"no word of {command}")
    browser.open("bochs")
    told = {e.get_attribute("data-missing") for e in browser.all(".missing")}
    equal(told, {"walksim", "kvm"})


# --- values ---------------------------------------------------------------------------------------------------


def test_the_embedded_data_is_the_data(browser):
    for name in ("bochs", "synthetic"):
        browser.open(name)
        wanted = json.loads(json.dumps(page.gather(DATA / name, model.load(), model.load_all(), {})))
        got = browser.data()
        del got["made"], wanted["made"]
        equal(got, wanted, name)


def test_the_table_has_every_record(browser):
    costs = model.load()
    for name in ("bochs", "synthetic"):
        browser.open(name)
        for phase in ("steady", "warmup"):
            Select(browser.one("#counts-phase")).select_by_value(phase)
            rows = browser.cells("bench") + browser.cells("steps")
            by = {(r["bench"][0], r.get("size", [""])[0], r["paging"][0], r["ept_page"][0]): r for r in rows}
            records = [r for r in bench_records(name) if r["phase"] == phase]
            equal(len(rows), len(records), f"{name}: rows of {phase}")
            for r in records:
                row = by[r["bench"], str(r.get("size") or ""), r["paging"], r["ept_page"] or ""]
                parts = costs.cycles(r)
                for column, wanted in (("ticks_per_op", r["ticks"] / r["ops"]), ("exits_per_op", r["exits"] / r["ops"]),
                                       ("instructions", float(parts.instructions)), ("exits", float(parts.exits)),
                                       ("walks", float(parts.walks)), ("total", float(parts.total))):
                    close(row[column][0], wanted, f"{name}: {r['vm']} {phase} {column}")
                    shown = row[column][1].replace(",", "")
                    expect(shown == "<0.01" or abs(float(shown) - wanted) <= max(0.0051, wanted * 0.006),
                           f"{r['vm']} {column} shows {shown} for {wanted}")


def test_overhead_over_native_is_shown(browser):
    browser.open("synthetic")
    row = next(r for r in browser.cells("bench") if [r[k][0] for k in ("bench", "size", "paging", "ept_page")] ==
               ["grow", "1024", "nested", "2m"])
    close(row["overhead"][0], 314 / 74 - 1, "10 + 19 * 16 over 10 + 4 * 16")
    equal(row["overhead"][1], "+324 %")


def test_bars_are_as_long_as_their_values(browser):
    for name, chart in (("bochs", "overhead-mixed"), ("synthetic", "overhead-grow")):
        browser.open(name)
        bench = chart.partition("-")[2]
        rows = {(r["paging"] + (" " + r["ept_page"] if r["ept_page"] and r["paging"] != "native" else "")): r
                for r in browser.data()["bench"] if r["bench"] == bench and r["phase"] == "steady" and r["size"] in (None, 16384)}
        marks = browser.marks(chart)
        scale = max(m["width"] / float(m["value"]) for m in marks if m["width"] > 50)
        expect(len({m["mode"] for m in marks}) >= 5, f"modes: {sorted({m['mode'] for m in marks})}")
        for m in marks:
            close(m["value"], rows[m["mode"]]["model"][m["part"]], f"{chart}: {m['mode']} {m['part']}")
            expect(abs(m["width"] - float(m["value"]) * scale) < 1.5,
                   f"{chart}: {m['mode']} {m['part']}: {m['width']} for {m['value']} at {scale}")


def test_growth_has_each_size(browser):
    browser.open("synthetic")
    marks = browser.marks("growth-grow")
    costs = model.load()
    wanted = {(r["size"], r["paging"], r["ept_page"] or ""): float(costs.cycles(r).total) for r in bench_records("synthetic")
              if r["bench"] == "grow" and r["phase"] == "steady"}
    equal(len(marks), 3 * 6, "three sizes of six modes")
    for m in marks:
        paging, _, ept = m["mode"].partition(" ")
        close(m["value"], wanted[int(m["size"]), paging, ept], f"{m['mode']} of {m['size']}")
    by_size = {m["size"]: m["x"] + m["width"] / 2 for m in marks}
    first, second, third = by_size["1024"], by_size["4096"], by_size["16384"]
    expect(second > first and abs((third - second) - (second - first)) < 1, f"the axis is not logarithmic: {by_size}")


def test_the_break_even_is_where_the_model_says(browser):
    browser.open("synthetic")
    data = browser.data()
    select = Select(browser.one("#sensitivity-of"))
    wanted = next(s for s in data["sensitivity"] if (s["bench"], s["size"], s["ept_page"], s["parameter"]) ==
                  ("grow", 1024, "2m", "cycles_per_exit"))
    select.select_by_visible_text("grow, 1,024 pages, EPT pages of 2 MiB")
    browser.drawn()
    marks = browser.marks("sensitivity-cycles_per_exit")
    evens = {float(m["breakEven"]): m["x"] + m["width"] / 2 for m in marks if "breakEven" in m}
    equal(set(evens), {wanted["wins"]["low"], wanted["wins"]["high"]})
    points = {(m["mode"], float(m["x"] if isinstance(m["x"], str) else 0)): m for m in marks if "mode" in m}
    expect(points, "no points")
    at = browser.run("""
        return [...document.querySelectorAll('[data-chart="sensitivity-cycles_per_exit"] path.mark[data-mode="nested"]')]
            .map(m => { const b = m.getBoundingClientRect(); return [+m.getAttribute('data-x'), b.x + b.width / 2]; });""")
    (x0, left), (x1, right) = at[0], at[-1]
    for cost, x in evens.items():
        expect(abs(left + (cost - x0) / (x1 - x0) * (right - left) - x) < 1.5, f"the break-even {cost} stands at {x}")
    values = browser.cells("sensitivity-cycles_per_exit-values")
    for row in values:
        cost = float(row["x"][0])
        compound, best = float(row["compound"][0]), min(float(row["nested"][0]), float(row["shadow"][0]))
        equal(compound <= best, wanted["wins"]["low"] <= cost <= wanted["wins"]["high"], f"who wins at {cost}")


def test_the_map_shows_the_events(browser):
    browser.open("bochs")
    for built in regions.maps(results.read_trace(DATA / "bochs/trace.jsonl")):
        marks = [m for m in browser.marks(f"map-{built['vm']}") if "va" in m]
        wanted = {(row["va"], a, b, s) for row in built["rows"] for a, b, s in row["spans"]}
        equal({(m["va"], int(m["from"]), int(m["to"]), m["state"]) for m in marks}, wanted, built["vm"])
        by_end = max(marks, key=lambda m: int(m["to"]))
        start = min(marks, key=lambda m: int(m["from"]))
        scale = (by_end["x"] + by_end["width"] - start["x"]) / built["end"]
        for m in marks:
            expect(abs(m["width"] - max(0.75, (int(m["to"]) - int(m["from"])) * scale)) < 1, f"{m['va']} from {m['from']}")


def test_kvm_stands_beside_twofold(browser):
    browser.open("synthetic")
    rows = {(r["bench"][0], r["paging"][0]): r for r in browser.cells("kvm")}
    close(rows["plain", "kvm-ept"]["ticks_per_op"][0], 6.0, "KVM's instructions")
    close(rows["plain", "nested"]["ticks_per_op"][0], 5.0, "Twofold's")
    expect(("plain.step", "kvm-ept") in rows, "no single operations")
    equal({m["mode"] for m in browser.marks("kvm-plain")}, {"nested 2m", "shadow 2m", "compound 2m", "kvm-ept 2m", "kvm-shadow"})


def test_traces_are_shown_by_technique(browser):
    browser.open("synthetic")
    records = [json.loads(line) for line in (DATA / "synthetic/walksim.jsonl").read_text().splitlines()]
    for processor in ("skylake", "haswell"):
        Select(browser.one("#walksim-processor")).select_by_value(processor)
        for number in ("refs_per_miss", "traps"):
            Select(browser.one("#walksim-number")).select_by_value(number)
            browser.drawn()
            for trace in ("one", "two"):
                wanted = {r["technique"]: r[number] for r in records if (r["trace"], r["processor"]) == (trace, processor)}
                equal({m["mode"]: float(m["value"]) for m in browser.marks(f"walksim-{trace}")}, wanted, f"{trace} {number}")
        equal(len(browser.cells("walksim")), sum(r["processor"] == processor for r in records), "rows")


def test_the_parameters_and_their_sources_are_there(browser):
    browser.open("empty")
    rows = browser.cells("model")
    wanted = [(key, float(getattr(m, key)), text) for m in model.load_all() for key, text in m.sources]
    equal([(r["key"][0], float(r["value"][0]), r["source"][0]) for r in rows], wanted)
    expect(model.load().describe() in browser.one("#made").text, "the head does not say the model")


# --- for everybody --------------------------------------------------------------------------------------------

CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d');
function rgb(colour) {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return {r, g, b, a: a / 255};
}
function luminance(c) {
    const [r, g, b] = [c.r, c.g, c.b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function ground(element) {
    for (let e = element; e; e = e.parentElement) {
        const c = rgb(getComputedStyle(e).backgroundColor);
        if (c.a > 0.99) return c;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
}
function ratio(a, b) {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
}
const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(e.tagName) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
    texts.push([ratio(rgb(svg ? style.fill : style.color), ground(e)), walker.currentNode.data.trim().slice(0, 30)]);
}
const root = getComputedStyle(document.documentElement), surface = rgb(root.getPropertyValue('--surface'));
const marks = ['native', 'nested', 'shadow', 'compound', 'kvm', 'instructions', 'exits', 'walks', 'unsync', 'focus']
    .map(n => [ratio(rgb(root.getPropertyValue('--' + n)), surface), n]);
return [texts, marks, luminance(surface)];
"""


def test_light_and_dark_have_contrast(browser):
    for scheme in ("light", "dark"):
        browser.open("synthetic", scheme=scheme)
        browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        texts, marks, surface = browser.run(CONTRAST)
        expect(len(texts) > 300, f"only {len(texts)} texts were looked at")
        equal(surface > 0.5, scheme == "light", f"{scheme}: the surface's luminance {surface}")
        low = [t for t in texts if t[0] < TEXT_CONTRAST]
        equal(low, [], f"{scheme}: texts")
        equal([m for m in marks if m[0] < MARK_CONTRAST], [], f"{scheme}: marks")


def test_the_theme_can_be_chosen(browser):
    browser.open("empty", scheme="dark")
    button = browser.one("#theme")
    seen = []
    for _ in range(4):
        seen.append((button.text, browser.run("return document.documentElement.dataset.theme")))
        button.click()
    equal(seen, [("Theme: as the system", "dark"), ("Theme: light", "light"), ("Theme: dark", "dark"),
                 ("Theme: as the system", "dark")])


FOCUSABLE = "a[href], button, select, summary, [tabindex='0']"


def test_the_keyboard_reaches_everything(browser):
    browser.open("synthetic")
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    count = browser.run(f"""
        window.wanted = [...document.querySelectorAll("{FOCUSABLE}")].filter(e => e.getClientRects().length);
        window.reached = new Set(); window.bare = [];
        document.addEventListener('focusin', e => {{
            window.reached.add(e.target);
            const s = getComputedStyle(e.target);
            if (s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 2) window.bare.push(e.target.outerHTML.slice(0, 80));
        }});
        return window.wanted.length;""")
    expect(count > 40, f"only {count} things to reach")
    for _ in range(count + 5):
        browser.command("Input.dispatchKeyEvent", type="rawKeyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        browser.command("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    equal(browser.run("return window.wanted.filter(e => !window.reached.has(e)).map(e => e.outerHTML.slice(0, 80))"), [],
          "not reached")
    equal(browser.run("return window.bare"), [], "the focus is not seen")


def test_arrow_keys_go_through_a_chart(browser):
    browser.open("bochs")
    chart = browser.one("[data-chart='overhead-mixed'] svg")
    browser.run("arguments[0].focus()", chart)
    said = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.END, Keys.HOME):
        chart.send_keys(key)
        expect(browser.one("#tip").is_displayed(), "nothing is told")
        said.append(browser.one("#tip").text)
    expect(said[0] == said[3] and len(set(said)) == 3, f"it tells {said}")
    expect("mixed, native" in said[0] and "instructions" in said[0], said[0])
    chart.send_keys(Keys.ESCAPE)
    expect(not browser.one("#tip").is_displayed(), "Escape does not hide it")


def test_charts_and_controls_have_names(browser):
    browser.open("synthetic")
    equal(browser.run("""
        return [...document.querySelectorAll('.plot svg, button, select, .scroll')].filter(e =>
            !(e.getAttribute('aria-label') || e.textContent.trim() && e.tagName === 'BUTTON' || e.labels && e.labels.length))
            .map(e => e.outerHTML.slice(0, 60));"""), [])
    equal(browser.run("""
        const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        return ids.filter((id, i) => ids.indexOf(id) !== i);"""), [], "ids that repeat")
    equal(browser.run("return [...document.querySelectorAll('figure')].filter(f => !f.querySelector('details table tbody tr')).length"),
          0, "charts without a table")


def test_a_phone_shows_it_without_sideways_scrolling(browser):
    for name in ("synthetic", "bochs"):
        browser.open(name, width=PHONE)
        equal(browser.run("return document.documentElement.scrollWidth"), PHONE, f"{name}: the page's width")
        wide = browser.run("""
            return [...document.querySelectorAll('.plot svg, .card, .tile')].filter(e => e.getBoundingClientRect().right > innerWidth)
                .map(e => e.className.baseVal ?? e.className);""")
        equal(wide, [], f"{name}: wider than the screen")


def test_it_prints_on_white(browser):
    browser.open("bochs", width=PAPER, scheme="dark", media="print")
    expect(browser.run("return document.documentElement.scrollWidth") <= PAPER, "it is wider than the paper")
    equal(browser.run("return getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)")
    equal(browser.run("""
        return [...document.querySelectorAll('button, select, nav')].filter(e => e.getClientRects().length).length"""), 0, "controls")
    texts, _, _ = browser.run(CONTRAST)
    equal([t for t in texts if t[0] < TEXT_CONTRAST], [], "texts")


# --- taking it away -------------------------------------------------------------------------------------------


def downloaded(browser, selector, name):
    path = browser.folder / name
    path.unlink(missing_ok=True)
    browser.run("document.querySelector(arguments[0]).closest('details')?.setAttribute('open', '')", selector)
    browser.run("document.querySelector(arguments[0]).click()", selector)
    deadline = time.monotonic() + 5
    while not (path.exists() and path.stat().st_size > 0):
        expect(time.monotonic() < deadline, f"{name} does not come")
        time.sleep(0.02)
    return path.read_text(encoding="utf-8")


def test_downloads_give_the_data(browser):
    browser.open("synthetic")
    equal(json.loads(downloaded(browser, "#download-json", "twofold-report.json")), browser.data(), "JSON")
    rows = list(csv.DictReader(io.StringIO(downloaded(browser, "[data-csv='bench']", "bench.csv"))))
    records = [r for r in bench_records("synthetic") if r["phase"] == "steady"]
    equal(len(rows), len(records), "rows of the CSV")
    costs = model.load()
    by = {(r["bench"], r["size"], r["paging"], r["ept_page"]): r for r in rows}
    for r in records:
        row = by[r["bench"], str(r["size"] or ""), r["paging"], r["ept_page"] or ""]
        close(row["total"], float(costs.cycles(r).total), f"{r['vm']}: total")
    spans = list(csv.DictReader(io.StringIO(downloaded(
        browser, "[data-csv='map-phases.compound.2m']", "map-phases.compound.2m.csv"))))
    equal(len(spans), sum(len(row["spans"]) for row in browser.data()["maps"][0]["rows"]), "spans")


def make_pages(folder):
    """By the program itself; an empty folder is a case of its own."""
    (folder / "none").mkdir()
    for name, data in (("bochs", DATA / "bochs"), ("synthetic", DATA / "synthetic"), ("empty", folder / "none")):
        made = subprocess.run([sys.executable, ROOT / "scripts/report", "--data", data, "--output", folder / f"{name}.html"],
                              capture_output=True, text=True)
        if made.returncode != 0:
            print(f"FAIL page_is_made: {name}: {made.stderr.strip()}")
            sys.exit(3)


def main():
    with tempfile.TemporaryDirectory(prefix="twofold-report-") as name:
        folder = pathlib.Path(name)
        make_pages(folder)
        browser = Browser(folder)
        try:
            chosen = [t for t in tests_of(globals()) if len(sys.argv) < 2 or re.search(sys.argv[1], t.__name__)]
            return 0 if run(chosen, "page", browser) else 3
        finally:
            browser.driver.quit()


if __name__ == "__main__":
    sys.exit(main())
