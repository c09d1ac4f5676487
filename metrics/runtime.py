"""The processes of the runtime, and what their supervisors had to start again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


class RuntimeCollector(Collector):
    """Reads what there is when it is asked.

    Args:
        registry: where to register.
        processes: how many live.
        tree: the supervision tree, as `erlang_port.otp.supervision_tree` describes it, whose
            supervisors are few; None before it is there.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        processes: Callable[[], int],
        tree: Callable[[], dict[str, Any] | None],
    ) -> None:
        self._processes = processes
        self._tree = tree
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        yield GaugeMetricFamily(
            "megaphone_otp_processes", "Processes of the Python runtime.", self._processes()
        )
        family = CounterMetricFamily(
            "megaphone_supervisor_restarts",
            "Restarts, by the supervisor that started again.",
            labels=["supervisor"],
        )
        tree = self._tree()
        if tree is not None:
            for supervisor, restarts in restarts_by_supervisor(tree).items():
                family.add_metric([supervisor], restarts)
        yield family


def restarts_by_supervisor(tree: dict[str, Any]) -> dict[str, int]:
    """Add up the restarts of what each supervisor keeps.

    What a place in the pool keeps is no supervisor's child, and counts for the one above.
    """
    found: dict[str, int] = {}

    def look(node: dict[str, Any], supervisor: str) -> None:
        found[supervisor] = found.get(supervisor, 0) + node["restarts"]
        below = node["id"] if node["type"] == "supervisor" else supervisor
        found.setdefault(below, 0)
        for child in node["children"]:
            look(child, below)

    for child in tree["children"]:
        look(child, tree["id"])
    found.setdefault(tree["id"], 0)
    return found
