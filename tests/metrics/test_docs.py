import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from erlang_port.transports.fds import Statistics
from metrics.headroom import Headroom
from metrics.node import DETAILED, FAMILIES, NodeCollector
from metrics.port import PortCollector
from metrics.program import ProgramCollector
from metrics.registry import new_registry
from metrics.runtime import RuntimeCollector
from metrics.stages import STAGES
from metrics.workers import BATCH_OUTCOMES, CHECK_OUTCOMES, STATES, WorkerMetrics
from tests.metrics.answers import answer, everything

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


async def with_sessions(*_: object) -> dict[bytes, object]:
    return answer(1000)


@pytest.fixture
async def whole_registry() -> CollectorRegistry:
    registry = new_registry()
    node = NodeCollector(registry, everything, families=(*FAMILIES, *DETAILED))
    await node.refresh()
    tree = {"id": "megaphone", "children": []}
    RuntimeCollector(registry, lambda: 1, lambda: tree)
    await Headroom(registry, NodeCollector(new_registry(), with_sessions)).observe()
    PortCollector(registry, lambda: Statistics(*[1] * len(Statistics._fields)), lambda: False)
    ProgramCollector(registry, "0")
    WorkerMetrics(registry, node).observe(
        in_state=lambda _: 0,
        resident_memory=lambda: 0,
        waiting=lambda: 0,
        waiting_bytes=lambda: 0,
        pids=lambda: [None],
    )
    return registry


def test_what_is_documented_is_what_there_is(whole_registry: CollectorRegistry) -> None:
    documented = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(DOCS.read_text())
    }
    found = {}
    for family in whole_registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, frozenset(labels))
    assert documented == found


def test_the_values_of_labels_are_documented() -> None:
    rows = {name: labels for name, _, labels in ROW.findall(DOCS.read_text())}
    for name, values in (
        ("megaphone_batches_total", BATCH_OUTCOMES),
        ("megaphone_template_checks_total", CHECK_OUTCOMES),
        ("megaphone_workers", STATES),
        ("megaphone_batch_stage_seconds", STAGES),
    ):
        assert rows[name].split(": ")[1].strip() == ", ".join(values)


def test_names_are_prometheus_s(whole_registry: CollectorRegistry) -> None:
    for family in whole_registry.collect():
        assert family.name.startswith("megaphone_")
        assert not re.search(r"_(ms|milliseconds|kb|mb|minutes)(_|$)", family.name)
        assert family.documentation.endswith(".")
