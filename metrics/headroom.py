"""Observes the node for the capacity estimate, and shows what it says."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from metrics.capacity import INTERVAL, Capacity, Estimate, Observation, Resource, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from erlang_port.etf import Term
    from metrics.node import NodeCollector

#: What the node answers for the resources of which there is a number of pieces.
_COUNTED: Final[dict[Resource, bytes]] = {
    "processes": b"vm_processes",
    "ports": b"vm_ports",
    "file_descriptors": b"vm_file_descriptors",
}


class Headroom(Collector):
    """The estimates of one node.

    Args:
        registry: where to register.
        node: whom to ask.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        node: NodeCollector,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._clock = clock
        self._capacity = Capacity()
        self._uptime = 0.0
        self._estimates: list[Estimate] | None = None
        registry.register(self)

    async def run(self, started: Callable[[], None]) -> None:
        """Observe the node every `INTERVAL` seconds, until cancelled."""
        started()
        while True:
            await self.observe()
            await asyncio.sleep(INTERVAL)

    async def observe(self) -> None:
        """Observe the node once; without its answer there is no estimate."""
        await self._node.refresh()
        answer = self._node.answer
        if answer is None:
            self._estimates = None
            return
        uptime = _number(answer, b"node_uptime_seconds") or 0.0
        if uptime < self._uptime:
            self._capacity.forget()
        self._uptime = uptime
        seen = observation(answer, self._clock())
        if seen is None:
            self._estimates = None
            return
        self._capacity.observe(seen)
        self._estimates = self._capacity.estimates()

    def estimates(self) -> list[Estimate] | None:
        """The estimates, the resource that ends first at the beginning; None: nothing is known."""
        return self._estimates

    def collect(self) -> Iterator[Metric]:
        """Give the metric; a resource of which nothing is known is absent."""
        family = GaugeMetricFamily(
            "megaphone_capacity_sessions",
            "Simultaneous sessions that the node could hold, by resource.",
            labels=["resource"],
        )
        for estimate in self._estimates or ():
            family.add_metric([estimate.resource], round(estimate.capacity))
        yield family


def observation(answer: Mapping[bytes, Term], now: float) -> Observation | None:
    """What the node's answer says of its resources.

    Args:
        answer: `metrics` of docs/protocol.md.
        now: seconds, monotonic.

    Returns:
        None without the number of sessions, which the node does not know at first.
    """
    sessions = _sum(answer, b"sessions")
    if sessions is None:
        return None
    usage: dict[Resource, Usage] = {}
    for resource, name in _COUNTED.items():
        _add(usage, resource, _number(answer, name), _number(answer, name + b"_limit"))
    resident = _number(answer, b"vm_resident_memory_bytes")
    available = _number(answer, b"system_memory_available_bytes")
    if resident is not None and available is not None:
        _add(usage, "memory", resident, resident + available)
    cores = _number(answer, b"vm_schedulers_online")
    granted = _number(answer, b"system_cpus")
    busy = _labelled(answer, b"vm_scheduler_utilization_ratio", b"normal")
    if cores is not None and busy is not None:
        _add(usage, "cpu", busy * cores, min(cores, granted or cores))
    return Observation(now, int(sessions), usage, _sum(answer, b"vm_memory_bytes"))


def _add(
    usage: dict[Resource, Usage], resource: Resource, used: float | None, limit: float | None
) -> None:
    if used is not None and limit is not None:
        usage[resource] = Usage(used, limit)


def _number(answer: Mapping[bytes, Term], name: bytes) -> float | None:
    value = answer.get(name)
    return float(value) if isinstance(value, int | float) else None


def _rows(answer: Mapping[bytes, Term], name: bytes) -> Iterator[tuple[Term, float]]:
    rows = answer.get(name)
    for row in rows if isinstance(rows, list) else ():
        match row:
            case (label, int() | float() as number):
                yield label, float(number)


def _labelled(answer: Mapping[bytes, Term], name: bytes, label: bytes) -> float | None:
    return next((number for found, number in _rows(answer, name) if found == label), None)


def _sum(answer: Mapping[bytes, Term], name: bytes) -> float | None:
    """The sum of the rows; None when there are none, which is not the same as nothing."""
    numbers = [number for _, number in _rows(answer, name)]
    return sum(numbers) if numbers else None
