import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from metrics.dashboards.panel import Unit
from metrics.dashboards.panels import ROWS
from tests.support.promql import metrics

PANELS = [panel for row in ROWS for panel in row.panels]
RULES = Path(__file__).parents[3] / "metrics/prometheus/rules"

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)


def test_the_rows():
    assert [row.title for row in ROWS] == [
        "Scaling headroom",
        "Sessions",
        "Broadcast",
        "Port",
        "VM",
    ]


def test_titles_are_unique():
    titles = [panel.title for panel in PANELS]
    assert len(set(titles)) == len(titles)


@each_panel
def test_a_panel_says_what_it_shows(panel):
    assert panel.help.endswith(".")
    assert panel.queries
    assert panel.unit in get_args(Unit)
    assert panel.critical is None or panel.warning < panel.critical
    legends = [query.legend for query in panel.queries]
    assert len(set(legends)) == len(legends)


@each_panel
def test_its_queries_are_promql_of_one_node(panel):
    for query in panel.queries:
        filled = query.filled(node='instance="x"', window="1m")
        read = metrics(filled)
        assert read
        # Each selector chooses the node, and none reads what rules record.
        assert filled.count('instance="x"') == len(re.findall(r"\w\{", filled))
        assert not [name for name in read if ":" in name]


def test_the_bounds_are_those_of_alerts():
    """A line that is crossed on a chart is one that somebody is told about."""
    alerts = yaml.safe_load((RULES / "alerts.yml").read_text())
    bounds = {
        float(number)
        for group in alerts["groups"]
        for rule in group["rules"]
        for number in re.findall(r"> ([\d.]+)", rule["expr"])
    }
    for panel in PANELS:
        assert {panel.warning, panel.critical} - {None} <= bounds, panel.title
