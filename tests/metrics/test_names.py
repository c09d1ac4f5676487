"""Every metric that a rule, an alert or a dashboard reads is one that there is."""

import re
from pathlib import Path

import pytest
import yaml

from metrics.dashboards.panels import ROWS
from tests.support.promql import exported, metrics

ROOT = Path(__file__).parents[2]

DOCUMENTED = set(
    re.findall(r"^\| `(megaphone_\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
)

RULES = [
    rule
    for file in sorted((ROOT / "metrics/prometheus/rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}

#: Of Prometheus itself, for each target.
ITS_OWN = {"up"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert", rule.get("record")))
def test_what_a_rule_reads(rule):
    read = {exported(name) for name in metrics(rule["expr"])}
    assert read <= DOCUMENTED | RECORDED | ITS_OWN


@pytest.mark.parametrize(
    "panel", [panel for row in ROWS for panel in row.panels], ids=lambda panel: panel.title
)
def test_what_a_panel_reads(panel):
    for query in panel.queries:
        filled = query.filled(node='instance="x"', window="1m")
        assert {exported(name) for name in metrics(filled)} <= DOCUMENTED


def test_there_are_metrics_to_compare_with():
    assert len(DOCUMENTED) > 50
