"""The workers, their batches, and the checks of templates."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge

from metrics.stages import StageCollector
from metrics.worker_processes import WorkerProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import CollectorRegistry

    from metrics.node import NodeCollector

STATES: Final = ("starting", "idle", "busy")

#: What became of a batch: formatted, or a reason of `batch_failed` (docs/protocol.md).
BATCH_OUTCOMES: Final = ("done", "timeout", "memory", "too_large", "bad_batch", "crash")

#: What became of a check: the templates may be used, they may not, or there was no answer.
CHECK_OUTCOMES: Final = ("ok", "invalid", "error")


class WorkerMetrics:
    """Counted by the pool; gauges ask when they are read (`observe`).

    Args:
        registry: where to register.
        node: the node's part of what is told together; None where there is no node.

    Attributes:
        stages: how long batches wait and are formatted.
    """

    def __init__(self, registry: CollectorRegistry, node: NodeCollector | None = None) -> None:
        self._registry = registry
        self.stages = StageCollector(registry, node)
        self._workers = Gauge(
            "megaphone_workers", "Worker processes by state.", ["state"], registry=registry
        )
        self._resident_memory = Gauge(
            "megaphone_workers_resident_memory_bytes",
            "Resident memory of all workers together.",
            registry=registry,
        )
        self._waiting = Gauge(
            "megaphone_batches_waiting", "Batches that wait for a worker.", registry=registry
        )
        self._waiting_bytes = Gauge(
            "megaphone_batches_waiting_bytes",
            "Bytes of the batches that wait for a worker.",
            registry=registry,
        )
        self.restarts = Counter(
            "megaphone_worker_restarts", "Workers that ended and were replaced.", registry=registry
        )
        self.batches = Counter(
            "megaphone_batches", "Batches answered, by outcome.", ["outcome"], registry=registry
        )
        self.retries = Counter(
            "megaphone_batch_retries",
            "Batches given to a worker once more, after one that ended or had too little memory.",
            registry=registry,
        )
        self.checks = Counter(
            "megaphone_template_checks",
            "Checks of a broadcast's templates, by outcome.",
            ["outcome"],
            registry=registry,
        )
        for outcome in BATCH_OUTCOMES:
            self.batches.labels(outcome)
        for outcome in CHECK_OUTCOMES:
            self.checks.labels(outcome)

    def observe(
        self,
        *,
        in_state: Callable[[str], float],
        resident_memory: Callable[[], float],
        waiting: Callable[[], float],
        waiting_bytes: Callable[[], float],
        pids: Callable[[], Sequence[int | None]],
    ) -> None:
        """Say where the gauges' values come from.

        Args:
            in_state: how many workers are in a state of `STATES`.
            resident_memory: bytes.
            waiting: batches.
            waiting_bytes: bytes.
            pids: the process in each place, None where there is none now.
        """
        for state in STATES:
            self._workers.labels(state).set_function(partial(in_state, state))
        self._resident_memory.set_function(resident_memory)
        self._waiting.set_function(waiting)
        self._waiting_bytes.set_function(waiting_bytes)
        WorkerProcessCollector(self._registry, pids)
