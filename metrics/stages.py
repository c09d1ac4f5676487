"""The stages of a batch, two of them at the node and two of them here, as one histogram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from metrics.node import NodeCollector

#: Seconds. A batch of a thousand plain substitutions takes a fraction of the first, a walk over a
#: million sessions less than the last. `megaphone_counts` has the same.
BUCKETS: Final = (0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1, 2.5, 10)

#: The node's and the bridge's, in the order of a batch's way.
STAGES: Final = ("resolve", "queue", "format", "route")

_NAME: Final = "batch_stage_seconds"
_FULL_NAME: Final = f"megaphone_{_NAME}"
_DOCUMENTATION: Final = "How long the stages of a batch take."


class StageCollector(Collector):
    """Observed by the pool, and joined with what the node says.

    Args:
        registry: where to register.
        node: has the node's stages while it answers; None where there is no node.

    Attributes:
        queue: from a batch's arrival, or its return from a lost worker, to a worker's taking it.
        format: from a worker's taking a batch to its answer.
    """

    def __init__(self, registry: CollectorRegistry, node: NodeCollector | None = None) -> None:
        self._node = node
        self._own = Histogram(_FULL_NAME, _DOCUMENTATION, ["stage"], buckets=BUCKETS, registry=None)
        self.queue = self._own.labels("queue")
        self.format = self._own.labels("format")
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the one metric."""
        metric = HistogramMetricFamily(_FULL_NAME, _DOCUMENTATION, labels=["stage"])
        for own in self._own.collect():
            metric.samples.extend(own.samples)
        if self._node is not None:
            for labels, histogram in self._node.histograms(_NAME, 1):
                metric.add_metric(labels, *histogram)
        yield metric
