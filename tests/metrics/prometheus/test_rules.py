"""The configuration, rules and alerts, by Prometheus's own promtool."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.promql import metrics
from tests.support.tools import require_tool

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "metrics/prometheus"
UNIT_TESTS = sorted((Path(__file__).parent / "rules").glob("*.yml"))

RULES = [
    rule
    for file in sorted(PROMETHEUS.glob("rules/*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}

# promtool evaluates groups in no order: an alert sees what is recorded at once or a minute later,
# and the unit tests leave it the minute.

#: Alerts on what happens once: there is nothing to wait for.
EVENTS = {"MegaphoneBroadcastsFailing", "MegaphoneCodecErrors"}


def promtool(*arguments):
    done = subprocess.run(
        [require_tool("promtool"), *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def anchors(page: str) -> set[str]:
    """The fragments that a page's headings have where Markdown is shown."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_configuration_is_valid():
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_the_rules_are_valid():
    rules = sorted(PROMETHEUS.glob("rules/*.yml"))
    assert [file.name for file in rules] == ["alerts.yml", "recording.yml"]
    promtool("check", "rules", "--lint=all", "--lint-fatal", *rules)


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_the_rules_do_what_they_say(file):
    promtool("test", "rules", file)


def test_each_alert_is_tested_to_fire_and_not_to():
    fires, waits, near = set(), set(), set()
    for file in UNIT_TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for query in test.get("promql_expr_test", ()):
                if name := re.search(r'alertname="(\w+)"', query["expr"]):
                    (fires if query["exp_samples"] else waits).add(name[1])
                    if any('"good"' in series["series"] for series in test["input_series"]):
                        near.add(name[1])
    assert fires == waits == near == set(ALERTS)


def test_each_recording_rule_is_tested():
    tested = set()
    for test in yaml.safe_load((Path(__file__).parent / "rules/recording.yml").read_text())[
        "tests"
    ]:
        for query in test["promql_expr_test"]:
            tested |= metrics(query["expr"])
    assert tested >= set(RECORDED)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name):
    alert = ALERTS[name]
    assert name.startswith("Megaphone")
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert "{{ $labels.instance }}" in alert["annotations"]["summary"]
    assert ("for" in alert) != (name in EVENTS)
    page, _, fragment = alert["annotations"]["runbook_url"].partition("#")
    assert fragment == name.lower()
    assert fragment in anchors(page)


def test_each_runbook_is_of_an_alert_and_says_its_severity():
    sections = re.findall(
        r"^### (\w+)\n\n(\w+)\. ", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE
    )
    assert {name: severity.lower() for name, severity in sections} == {
        name: alert["labels"]["severity"] for name, alert in ALERTS.items()
    }


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_name_is_level_metric_operation(name):
    level, metric, operation = name.split(":")
    assert re.fullmatch(r"(instance|job)(_[a-z]+)*", level)
    assert metric.startswith("megaphone_")
    assert not metric.endswith("_total")  # Stripped where a rate is taken.
    assert operation


def test_what_the_rules_read_of_each_other_is_recorded():
    for rule in RULES:
        for metric in metrics(rule["expr"]):
            assert ":" not in metric or metric in RECORDED
