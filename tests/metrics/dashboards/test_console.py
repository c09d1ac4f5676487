import json
import re
from pathlib import Path

import pytest

from metrics.dashboards.console import SOURCES, render, slug
from metrics.dashboards.panels import ROWS
from tests.support.chromium import browser

CONSOLE = Path(__file__).parents[3] / "metrics/prometheus/consoles/megaphone.html"


def test_it_is_current():
    assert CONSOLE.read_text() == render(), "write it anew: python -m metrics.dashboards"


def test_every_panel_has_its_place_and_its_queries():
    page = render()
    (data,) = re.findall(r'<script type="application/json" id="panels">(.*)</script>', page)
    panels = [panel for row in ROWS for panel in row.panels]
    assert [
        (one["id"], [tuple(query) for query in one["queries"]]) for one in json.loads(data)
    ] == [
        (slug(panel.title), [(query.expression, query.legend) for query in panel.queries])
        for panel in panels
    ]
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    assert {slug(panel.title) for panel in panels} <= set(ids)


def test_the_only_action_of_the_template_is_the_path():
    assert re.findall(r"\{\{.*?\}\}", render()) == ["{{ pathPrefix }}"]


def test_it_names_no_other_place():
    page = render().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|src=|@import|url\(", page)


def test_the_scripts_are_such_as_go_s_templates_leave_alone():
    for source in SOURCES.glob("*.js"):
        for line in source.read_text().splitlines():
            code = "" if line.lstrip().startswith("//") else line
            assert "//" not in code.replace("http://", ""), line
            assert "/*" not in code, line
            assert "`" not in code, line


VALUES = [
    (0, "count", "0"),
    (12, "count", "12"),
    (1234567, "count", "1.23 M"),
    (0.5, "count_per_second", "0.5/s"),
    (0.00512, "cores", "0.0051"),
    (1536, "bytes", "1.50 KiB"),
    (8 * 1024**2, "bytes_per_second", "8 MiB/s"),
    (0.0000123, "seconds", "12.3 \u00b5s"),
    (0.25, "seconds", "250 ms"),
    (-0.25, "seconds", "-250 ms"),
    (90, "seconds", "90 s"),
    (5400, "seconds", "90 min"),
    (259200, "seconds", "3 d"),
    (0.8512, "ratio", "85.1 %"),
    (1.5, "cores", "1.50"),
]

TICKS = [
    ((0, 1, 4, "count"), [0, 0.5, 1]),
    ((0, 97, 4, "count"), [0, 50, 100]),
    ((-3, 7, 4, "count"), [-5, 0, 5, 10]),
    ((0, 3.5 * 1024**2, 4, "bytes"), [n * 1024**2 for n in range(5)]),
    ((0, 600, 4, "seconds"), [n * 60 for n in (0, 5, 10)]),
]


async def test_values_and_ticks_are_written_as_people_do():
    async with browser() as page:
        await page.evaluate((SOURCES / "units.js").read_text() + "; true")
        for value, unit, text in VALUES:
            assert await page.evaluate(f"written({value}, '{unit}')") == text
        assert await page.evaluate("written(512 * 1024, 'bytes', 2 * 1024 ** 2)") == "0.5 MiB"
        assert await page.evaluate("written(30, 'seconds', 120)") == "0.5 min"
        for arguments, ticks in TICKS:
            found = await page.evaluate(f"linearTicks(...{json.dumps(arguments)})")
            assert found == pytest.approx(ticks)
        assert await page.evaluate("logarithmicTicks(3, 20000)") == [1, 10, 100, 1000, 10000, 1e5]
        assert await page.evaluate("logarithmicTicks(1, 1)") == [1, 10]
        assert not page.complaints
