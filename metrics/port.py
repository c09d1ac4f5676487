"""The port, as the port program sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from erlang_port.transports.fds import Statistics


class PortCollector(Collector):
    """Reads the connection's own figures when it is asked.

    Args:
        registry: where to register.
        statistics: the figures, or None while there is no connection.
        standing_by: whether another sidecar is connected in this one's place.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        statistics: Callable[[], Statistics | None],
        standing_by: Callable[[], bool],
    ) -> None:
        self._statistics = statistics
        self._standing_by = standing_by
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics; without a connection only those that say so."""
        figures = self._statistics()
        yield GaugeMetricFamily(
            "megaphone_port_connected",
            "Whether hellos were exchanged with the node.",
            float(figures is not None),
        )
        yield GaugeMetricFamily(
            "megaphone_port_standing_by",
            "Whether another sidecar is connected, and this one could take over.",
            float(self._standing_by()),
        )
        if figures is None:
            return
        yield _by_direction(
            "megaphone_port_bytes",
            "Bytes over the port, framing included.",
            figures.bytes_received,
            figures.bytes_sent,
        )
        yield _by_direction(
            "megaphone_port_frames",
            "Frames over the port.",
            figures.frames_received,
            figures.frames_sent,
        )
        yield GaugeMetricFamily(
            "megaphone_port_credit_bytes",
            "Bytes that the node still accepts.",
            figures.credit,
        )
        yield GaugeMetricFamily(
            "megaphone_port_queued_bytes", "Bytes that wait for the node's credit.", figures.queued
        )
        calls = GaugeMetricFamily(
            "megaphone_port_calls",
            "Calls that are not answered yet, by who asks.",
            labels=["caller"],
        )
        calls.add_metric(["node"], figures.calls_handled)
        calls.add_metric(["program"], figures.calls_waiting)
        yield calls
        yield CounterMetricFamily(
            "megaphone_port_discarded_frames",
            "Frames from the node that were no message, and were dropped.",
            figures.discarded,
        )
        yield CounterMetricFamily(
            "megaphone_codec_errors",
            "Frames and terms of the node that could not be decoded.",
            figures.undecoded,
        )
        yield CounterMetricFamily(
            "megaphone_port_busy_seconds",
            "Time that writing to the node had to wait for the port.",
            figures.busy,
        )
        yield CounterMetricFamily(
            "megaphone_port_dropped_log_lines",
            "Log lines that found no room on their way to the node.",
            figures.logs_dropped,
        )
        yield GaugeMetricFamily(
            "megaphone_port_heartbeat_age_seconds",
            "Time since anything was received from the node.",
            figures.heartbeat_age,
        )
        yield GaugeMetricFamily(
            "megaphone_port_program_loop_lag_seconds",
            "How late the port program's event loop was at the worst, in the last 60 s.",
            figures.loop_lag,
        )


def _by_direction(name: str, text: str, received: float, sent: float) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["direction"])
    family.add_metric(["received"], received)
    family.add_metric(["sent"], sent)
    return family
