import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from erlang_port.etf import Atom, EtfError
from erlang_port.transports.fds import CallError, Disconnected
from metrics.node import DETAILED, METRICS_DETAILED, TIMEOUT, NodeCollector
from metrics.registry import new_registry

Call = Callable[[str, Any, float], Awaitable[Any]]


def collector(call: Call) -> tuple[CollectorRegistry, NodeCollector]:
    registry = new_registry()
    return registry, NodeCollector(registry, call)


def answering(*answers: Any) -> Call:
    """Gives one answer after the other; raises those that are errors."""
    left = list(answers)

    async def call(name: str, request: Any, timeout: float) -> Any:
        assert (name, request, timeout) == ("node", Atom("metrics"), TIMEOUT)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return call


async def test_numbers_and_labels() -> None:
    registry, node = collector(
        answering(
            {
                b"node_uptime_seconds": 1.5,
                b"vm_reductions_total": 7,
                b"vm_io_bytes_total": [(b"received", 1), (b"sent", 2)],
                b"node_info": [(b"a@b", b"23.01", b"25", b"0.1.0", 1)],
            }
        )
    )
    await node.refresh()
    value = registry.get_sample_value
    assert value("megaphone_up") == 1
    assert value("megaphone_node_uptime_seconds") == 1.5
    assert value("megaphone_vm_reductions_total") == 7
    assert value("megaphone_vm_io_bytes_total", {"direction": "sent"}) == 2
    labels = {"node": "a@b", "ejabberd": "23.01", "otp": "25", "megaphone": "0.1.0"}
    assert value("megaphone_node_info", labels) == 1


@pytest.mark.parametrize(
    "failure",
    [
        CallError("badarg", "node answers status"),
        Disconnected("gone"),
        EtfError("too long", 0),
        TimeoutError(),
        [b"no", b"map"],
    ],
)
async def test_a_node_that_does_not_answer_is_down_and_nothing_stays(
    failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    good = {b"node_uptime_seconds": 1}
    registry, node = collector(answering(good, failure, failure, good))
    await node.refresh()
    with caplog.at_level(logging.WARNING):
        await node.refresh()
        assert [family.name for family in registry.collect()] == ["megaphone_up"]
        assert registry.get_sample_value("megaphone_up") == 0
        await node.refresh()
    # Of a connection that is gone, whoever keeps it speaks.
    assert len(caplog.records) == (0 if isinstance(failure, Disconnected) else 1)
    await node.refresh()
    assert registry.get_sample_value("megaphone_node_uptime_seconds") == 1


async def test_scrapes_that_come_at_once_ask_once() -> None:
    asked = 0
    answer = asyncio.Event()

    async def call(*_: object) -> Any:
        nonlocal asked
        asked += 1
        await answer.wait()
        return {b"vm_processes": asked}

    registry, node = collector(call)
    scrapes = [asyncio.create_task(node.refresh()) for _ in range(5)]
    await asyncio.sleep(0)
    # One that goes away takes the answer from nobody.
    scrapes[0].cancel()
    answer.set()
    await asyncio.gather(*scrapes[1:])
    assert asked == 1
    await node.refresh()
    assert registry.get_sample_value("megaphone_vm_processes") == 2


async def test_what_is_not_as_the_protocol_says_is_left_out() -> None:
    registry, node = collector(
        answering(
            {
                b"vm_processes": b"many",
                b"vm_ports": [(b"x", 1)],
                b"vm_memory_bytes": [
                    (b"ets", 1),
                    (b"atom", b"x"),
                    (b"a", b"b", 3),
                    4,
                    (b"code", 5),
                ],
                b"vm_run_queue_tasks": 3,
                b"of a later version": 1,
                4: 5,
            }
        )
    )
    await node.refresh()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    assert found == {
        ("megaphone_up",): 1,
        ("megaphone_vm_memory_bytes", "ets"): 1,
        ("megaphone_vm_memory_bytes", "code"): 5,
    }


async def test_labels_may_hold_anything() -> None:
    name = 'quote" back\\slash new\nline é \x01 {}'
    registry, node = collector(
        answering({b"node_info": [(name.encode(), b"\xff", Atom("x"), 25, 1)]})
    )
    await node.refresh()
    families = text_string_to_metric_families(generate_latest(registry).decode())
    (sample,) = [s for f in families for s in f.samples if s.name == "megaphone_node_info"]
    assert sample.labels == {"node": name, "ejabberd": "�", "otp": "x", "megaphone": "25"}


async def test_another_question_with_another_answer() -> None:
    asked = []

    async def call(*request: Any) -> Any:
        asked.append(request)
        return {b"detailed_sessions": [(b"a.test", 3)], b"vm_processes": 1}

    registry = new_registry()
    node = NodeCollector(registry, call, METRICS_DETAILED, DETAILED)
    await node.refresh()
    assert asked == [("node", (Atom("metrics"), Atom("detailed")), TIMEOUT)]
    assert registry.get_sample_value("megaphone_detailed_sessions", {"vhost": "a.test"}) == 3
    assert registry.get_sample_value("megaphone_vm_processes") is None


async def test_two_thousand_virtual_hosts() -> None:
    hosts = [(f"vhost-{n}.example.org".encode(), n) for n in range(2000)]

    async def call(*_: object) -> Any:
        return {b"detailed_sessions": hosts}

    registry = new_registry()
    node = NodeCollector(registry, call, METRICS_DETAILED, DETAILED)
    await node.refresh()
    families = text_string_to_metric_families(generate_latest(registry).decode())
    shown = {
        sample.labels["vhost"]: sample.value
        for family in families
        for sample in family.samples
        if family.name == "megaphone_detailed_sessions"
    }
    assert shown == {name.decode(): n for name, n in hosts}


async def test_histograms() -> None:
    registry, node = collector(
        answering({b"pipeline_heartbeat_seconds": ([0.001, 0.0025, 10.0], [1, 0, 5, 2], 3.5)})
    )
    await node.refresh()
    value = registry.get_sample_value
    name = "megaphone_pipeline_heartbeat_seconds"
    counts = [value(f"{name}_bucket", {"le": le}) for le in ("0.001", "0.0025", "10.0", "+Inf")]
    assert counts == [1, 1, 6, 8]
    assert value(f"{name}_count") == 8
    assert value(f"{name}_sum") == 3.5


@pytest.mark.parametrize(
    "value",
    [
        5,
        ([0.1], [1], 2),
        ([0.1], [1, 2], b"x"),
        ([0.1], [1, b"x"], 2),
        ([b"x"], [1, 1], 2),
        ([0.1], [1, 2]),
        [(b"label", ([0.1], [1, 2], 1))],
    ],
)
async def test_what_is_no_histogram_is_left_out(value: Any) -> None:
    registry, node = collector(answering({b"pipeline_heartbeat_seconds": value}))
    await node.refresh()
    assert registry.get_sample_value("megaphone_pipeline_heartbeat_seconds_count") is None
    generate_latest(registry)


async def test_a_histogram_is_no_number() -> None:
    registry, node = collector(answering({b"vm_processes": ([0.1], [1, 2], 1)}))
    await node.refresh()
    assert registry.get_sample_value("megaphone_vm_processes") is None
