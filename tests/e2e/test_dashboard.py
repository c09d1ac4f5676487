"""`megaphone dashboard`: a real Prometheus scrapes a live Megaphone on a live ejabberd.

One node and one Prometheus for all of the file; what they show is looked at in tests of its own.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from bridge.cli.errors import ExitStatus
from metrics.dashboards.console import slug
from metrics.dashboards.panels import ROWS
from tests.e2e import dashboard
from tests.support.chromium import browser
from tests.support.processes import wait_until
from tests.support.promql import operands

RULES = [
    rule
    for file in sorted((Path(__file__).parents[2] / "metrics/prometheus/rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]

#: Every expression of every rule, alert and panel. An alert is to be silent; each side of its
#: condition has to have data all the same, or it would never be anything else.
EXPRESSIONS = {
    **{
        f"{panel.title}, {query.legend}": query.filled(node='job="megaphone"', window="20s")
        for row in ROWS
        for panel in row.panels
        for query in panel.queries
    },
    **{rule["record"]: rule["expr"] for rule in RULES if "record" in rule},
    **{f"recorded {rule['record']}": rule["record"] for rule in RULES if "record" in rule},
    **{
        f"{rule['alert']} {number}": operand
        for rule in RULES
        if "alert" in rule
        for number, operand in enumerate(operands(rule["expr"]))
    },
}

#: The browser's tests share one browser, and so one event loop.
in_browser = pytest.mark.asyncio(loop_scope="module")

PANELS = "Array.from(document.querySelectorAll('.panel'))"

#: Seconds from the start until there is data: a broadcast, what is sampled in the background.
DATA = 60


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Where a desktop's browser writes down what it is to show."""
    return tmp_path_factory.mktemp("browser") / "opened"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """One that ends by itself: the process, and where its files are. It runs beside the other."""
    directory = tmp_path_factory.mktemp("once")
    process = dashboard.start(directory, "--once")
    yield process, directory
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory, opened, once):  # noqa: ARG001 - it has been started before this one
    desktop = opened.with_name("desktop-browser")
    desktop.write_text(f'#!/bin/sh\necho "$1" >{opened}.new && mv {opened}.new {opened}\n')
    desktop.chmod(0o700)
    directory = tmp_path_factory.mktemp("dashboard")
    with dashboard.running(directory, DISPLAY=":0", BROWSER=str(desktop)) as found:
        yield found


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_there_is_data(shown, name):
    expression = EXPRESSIONS[name]
    left = max(2.0, shown.started + DATA - time.monotonic())
    wait_until(lambda: shown.prometheus.numbers(expression), left, expression)


def test_the_rules_are_evaluated(shown):
    def rules():
        groups = shown.prometheus.ask("rules")["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else None

    wait_until(rules, DATA)
    assert {rule["name"] for rule in rules()} == {
        rule.get("record", rule.get("alert")) for rule in RULES
    }
    assert [rule for rule in rules() if rule["health"] != "ok"] == []


def test_a_desktop_s_browser_is_shown_the_page(shown, opened):
    wait_until(opened.exists, 20)
    assert opened.read_text() == f"{shown.page}#range=120\n"


def test_no_alert_fires(shown):
    assert shown.prometheus.numbers('ALERTS{alertstate="firing"}') == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_browser():
    async with browser() as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def page(shown, one_browser):
    """The page in a browser, high enough for every panel to be in sight."""
    page = one_browser
    await page.resize(1280, 6000)
    await page.prefer("light")
    await page.open("about:blank")
    page.complaints.clear()
    page.requests.clear()
    await page.open(f"{shown.page}#range=120")
    yield page
    assert page.complaints == []
    assert {url.split("/")[2] for url in page.requests if url.startswith("http")} == {
        shown.prometheus.url.removeprefix("http://")
    }


async def colours(page, selector, name):
    """An element's colour, and that of the ground of its panel."""
    style = f"getComputedStyle(document.querySelector({json.dumps(selector)})).{name}"
    ground = "getComputedStyle(document.querySelector('.panel')).backgroundColor"
    return await page.evaluate(f"[{style}, {ground}]")


def contrast(one, other):
    """The contrast ratio of two colours (WCAG 2.2): 1 to 21."""

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    darker, lighter = sorted((luminance(one), luminance(other)))
    return lighter / darker


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_panel_shows_a_line(page, scheme):
    await page.prefer(scheme)
    titles = [panel.title for row in ROWS for panel in row.panels]
    assert (
        await page.evaluate(f"{PANELS}.map(panel => panel.querySelector('h3').textContent)")
        == titles
    )
    # A line of three points at least: one that goes on.
    lined = "panel.querySelector('polyline')?.points.length > 2"
    empty = f"{PANELS}.filter(panel => !({lined})).map(panel => panel.id)"
    await page.wait_for(f"{empty}.length === 0", DATA, what=empty)
    assert set(
        await page.evaluate(f"{PANELS}.map(panel => panel.querySelector('.note').textContent)")
    ) == {""}
    assert contrast(*await colours(page, ".legend b", "color")) >= 4.5
    assert contrast(*await colours(page, ".help", "color")) >= 4.5
    assert contrast(*await colours(page, ".chart text", "fill")) >= 4.5
    lines = await page.evaluate(f"{PANELS}.map(panel => panel.querySelector('.s').classList[1])")
    for line in set(lines):
        assert contrast(*await colours(page, f".s.{line}", "stroke")) >= 3
    dark = (
        await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 24)"
    )
    assert dark == (scheme == "dark")


@in_browser
async def test_lines_move(page):
    drawn = "document.querySelector('#uptime polyline')?.getAttribute('points')"
    before = await page.wait_for(drawn)
    await page.wait_for(f"{drawn} !== {json.dumps(before)}")
    facts = await page.evaluate("document.getElementById('facts').textContent")
    assert re.search(r"@127\.0\.0\.1, ejabberd \d+\.\d+.*, OTP \d+, Megaphone \d", facts)
    assert "firing" not in await page.wait_for("document.getElementById('alerts').textContent")


@in_browser
async def test_the_keyboard_is_enough(page):
    await page.wait_for("document.querySelector('#uptime polyline') !== null")
    focus = "document.activeElement"
    order = []
    for _ in range(4 + len(ROWS) + 2):
        await page.press("Tab")
        order.append(
            await page.evaluate(f"{focus}.id || {focus}.hash || {focus}.closest('figure').id")
        )
    links = [f"#{slug(row.title)}" for row in ROWS]
    charts = [slug(panel.title) for panel in ROWS[0].panels]
    assert order == ["#rows", "node", "range", "pause", *links, *charts[:2]]
    assert await page.evaluate(f"getComputedStyle({focus}).outlineStyle") == "solid"

    await page.evaluate("document.querySelector('#uptime .chart').focus()")
    now = "document.querySelector('#uptime .legend b').textContent"
    newest = await page.evaluate(now)
    await page.press("ArrowLeft", shift=True)
    assert await page.evaluate(now) != newest
    assert await page.evaluate("document.querySelectorAll('#uptime .hair').length") == 1
    said = await page.evaluate("document.getElementById('reading').textContent")
    assert "uptime" in said
    await page.press("Escape")
    assert await page.evaluate("document.querySelectorAll('#uptime .hair').length") == 0


@in_browser
async def test_it_is_read_on_a_phone(page):
    await page.resize(360, 5000)
    await page.wait_for("document.querySelector('#open-sessions polyline') !== null")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    widths = await page.evaluate(f"{PANELS}.map(panel => panel.getBoundingClientRect().width)")
    assert all(300 <= width <= 360 for width in widths)
    assert (
        await page.evaluate("document.querySelector('#open-sessions svg').viewBox.baseVal.width")
        < 360
    )


@in_browser
async def test_a_range_is_chosen_and_kept(page):
    await page.wait_for("document.querySelector('#uptime polyline') !== null")
    await page.evaluate(
        "const range = document.getElementById('range'); range.value = '3600';"
        "range.dispatchEvent(new Event('change'))"
    )
    await page.wait_for("location.hash.includes('range=3600')")
    asked = "performance.getEntriesByType('resource').map(entry => entry.name)"
    await page.wait_for(f"{asked}.some(url => url.includes('step=15'))")


@in_browser
async def test_a_prometheus_that_is_gone_is_told(page):
    await page.wait_for("document.querySelector('#uptime polyline') !== null")
    trouble = "document.getElementById('trouble')"
    assert await page.evaluate(f"{trouble}.hidden")
    await page.offline(True)
    await page.wait_for(
        f"{trouble}.textContent === 'Prometheus does not answer' && !{trouble}.hidden"
    )
    await page.offline(False)
    await page.wait_for(f"{trouble}.hidden")
    # The browser complains of each request that got nowhere.
    assert page.complaints
    page.complaints.clear()


def test_once(once):
    process, directory = once
    output, _ = process.communicate(timeout=110)
    assert process.returncode == ExitStatus.OK, output
    count = sum(len(row.panels) for row in ROWS)
    assert f"panels with data: {count} of {count}\n" in output
    dashboard.nothing_left(directory)


def test_without_prometheus(tmp_path):
    process = dashboard.start(tmp_path, "--prometheus", "no-such-prometheus")
    output, _ = process.communicate(timeout=110)
    assert process.returncode == ExitStatus.FAILURE
    assert "no-such-prometheus is not installed" in output
    dashboard.nothing_left(tmp_path)
