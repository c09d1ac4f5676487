"""A clock that is set, back or forth: nothing is measured by it."""

import time

import pytest
from prometheus_client.exposition import generate_latest

from bridge.fanout.batch_queue import BatchQueue, Job
from metrics.node import NodeCollector
from metrics.program import ProgramCollector
from metrics.registry import new_registry
from metrics.runtime import RuntimeCollector
from metrics.stages import StageCollector
from metrics.worker_processes import WorkerProcessCollector
from tests.bridge.fanout.conftest import a_batch
from tests.metrics.answers import everything


async def test_nobody_asks_the_clock_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = new_registry()
    node = NodeCollector(registry, everything)
    stages = StageCollector(registry, node)
    ProgramCollector(registry, "0")
    RuntimeCollector(registry, lambda: 1, lambda: None)
    WorkerProcessCollector(registry, lambda: [None])
    started = registry.get_sample_value("megaphone_port_program_start_time_seconds")

    def asked() -> float:
        raise AssertionError("the clock on the wall was asked")

    monkeypatch.setattr(time, "time", asked)
    await node.refresh()
    queue = BatchQueue(1_000_000)
    queue.put(Job(a_batch("b", 0, "{{ user }}")))
    job = queue.get()
    assert job is not None
    stages.queue.observe(time.monotonic() - job.since)
    assert b"megaphone_batch_stage_seconds_count" in generate_latest(registry)
    # When it was started stays what it was.
    assert registry.get_sample_value("megaphone_port_program_start_time_seconds") == started
