"""The port program's own process."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def resident_memory(pid: int | str = "self") -> int:
    """Resident memory of a process in bytes (proc(5), statm); 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def cpu_seconds(pid: int) -> float:
    """Processor time of a process in user and system mode (proc(5), stat); 0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0.0
    # The fields after the command's name, which may hold anything.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


class ProgramCollector(Collector):
    """Memory, processor time and age of this process, and what it runs.

    Args:
        registry: where to register.
        version: Megaphone's version.
    """

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self._started = time.time()
        information = Gauge(
            "megaphone_build_info",
            "Always 1; what runs is in the labels.",
            ["version", "python"],
            registry=registry,
        )
        information.labels(version, platform.python_version()).set(1)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        yield GaugeMetricFamily(
            "megaphone_port_program_resident_memory_bytes",
            "Resident memory of the port program.",
            resident_memory(),
        )
        times = os.times()
        yield CounterMetricFamily(
            "megaphone_port_program_cpu_seconds",
            "Processor time of the port program, in user and system mode.",
            times.user + times.system,
        )
        yield GaugeMetricFamily(
            "megaphone_port_program_start_time_seconds",
            "When the port program started, in seconds since 1970.",
            self._started,
        )
