"""What each worker process uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from metrics.program import cpu_seconds, resident_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

#: Label combinations of a metric; the workers beyond them are shown together, as `other`.
MOST: Final = 10


class WorkerProcessCollector(Collector):
    """Reads the kernel's figures of each worker when it is asked.

    Args:
        registry: where to register.
        pids: the process in each place, None where there is none now.
    """

    def __init__(
        self, registry: CollectorRegistry, pids: Callable[[], Sequence[int | None]]
    ) -> None:
        self._pids = pids
        self._times: dict[int, _Times] = {}
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics, by place."""
        pids = self._pids()
        memory: dict[str, float] = {}
        processor: dict[str, float] = {}
        for place, pid in enumerate(pids, 1):
            label = str(place) if len(pids) <= MOST or place < MOST else "other"
            used = resident_memory(pid) if pid is not None else 0
            memory[label] = memory.get(label, 0) + used
            spent = self._times.setdefault(place, _Times()).seconds(pid)
            processor[label] = processor.get(label, 0) + spent
        yield _by_worker(
            GaugeMetricFamily(
                "megaphone_worker_resident_memory_bytes",
                "Resident memory of the worker in a place.",
                labels=["worker"],
            ),
            memory,
        )
        yield _by_worker(
            CounterMetricFamily(
                "megaphone_worker_cpu_seconds",
                "Processor time of the workers that a place has had.",
                labels=["worker"],
            ),
            processor,
        )


class _Times:
    """Adds up the processor time of one worker after the other: a counter never goes back."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._before = 0.0
        self._last = 0.0

    def seconds(self, pid: int | None) -> float:
        if pid != self._pid:
            self._before += self._last
            self._pid, self._last = pid, 0.0
        if pid is not None:
            # Less than before, when it has just gone.
            self._last = max(self._last, cpu_seconds(pid))
        return self._before + self._last


def _by_worker(
    family: GaugeMetricFamily | CounterMetricFamily, values: dict[str, float]
) -> GaugeMetricFamily | CounterMetricFamily:
    for worker, value in values.items():
        family.add_metric([worker], value)
    return family
