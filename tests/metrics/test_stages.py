import re

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bridge.resources import mod_megaphone_source
from metrics.node import NodeCollector
from metrics.registry import new_registry
from metrics.stages import BUCKETS, STAGES, StageCollector

COUNTS = [1] * (len(BUCKETS) + 1)


async def answer(*_: object) -> dict[bytes, object]:
    histogram = (list(BUCKETS), COUNTS, 4.5)
    return {b"batch_stage_seconds": [(b"resolve", histogram), (b"route", histogram)]}


async def test_the_node_s_stages_and_the_bridge_s_are_one_metric() -> None:
    registry = new_registry()
    node = NodeCollector(registry, answer)
    stages = StageCollector(registry, node)
    stages.queue.observe(0.002)
    stages.format.observe(100)
    await node.refresh()
    (family,) = [
        family
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        if family.name == "megaphone_batch_stage_seconds"
    ]
    buckets: dict[str, list[float]] = {}
    bounds = set()
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            buckets.setdefault(sample.labels["stage"], []).append(sample.value)
            bounds.add(sample.labels["le"])
    assert set(buckets) == set(STAGES)
    # The same bounds in all, written in the same way.
    assert bounds == {*(repr(float(bound)) for bound in BUCKETS), "+Inf"}
    assert buckets["resolve"] == list(range(1, 11))
    assert buckets["queue"] == [0] + [1] * 9
    assert buckets["format"] == [0] * 9 + [1]


async def test_without_the_node_its_own_stages_stay() -> None:
    registry = new_registry()
    node = NodeCollector(registry, answer)
    StageCollector(registry, node)
    name = "megaphone_batch_stage_seconds_count"
    assert registry.get_sample_value(name, {"stage": "queue"}) == 0
    assert registry.get_sample_value(name, {"stage": "route"}) is None


def test_the_node_counts_in_the_same_buckets() -> None:
    source = (mod_megaphone_source() / "src" / "megaphone_counts.erl").read_text("utf-8")
    (bounds,) = re.findall(r"-define\(BOUNDS, \[([0-9, ]+)\]\)", source)
    assert [int(bound) / 1e6 for bound in bounds.split(",")] == pytest.approx(BUCKETS)
