"""The node's own metrics: asked for when somebody scrapes, never kept longer than that."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from erlang_port.etf import Atom, EtfError
from erlang_port.transports.fds import CallError, Disconnected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from erlang_port.etf import Term

#: Seconds that the node has to answer a scrape.
TIMEOUT: Final = 2.0

#: What the node is asked, see docs/protocol.md.
METRICS: Final = Atom("metrics")
METRICS_DETAILED: Final = (METRICS, Atom("detailed"))

_PREFIX: Final = "megaphone_"

_logger = logging.getLogger("megaphone.metrics")


class Family(NamedTuple):
    """A metric as the node names it, see docs/protocol.md.

    Attributes:
        name: without the prefix `megaphone_`; a counter's ends in `_total`.
        documentation: one sentence.
        labels: their names.
        histogram: whether its values are histograms.
    """

    name: str
    documentation: str
    labels: tuple[str, ...] = ()
    histogram: bool = False


class Buckets(NamedTuple):
    """A histogram as prometheus_client takes it: counts up to each bound, and the sum of all."""

    buckets: list[tuple[str, float]]
    sum_value: float


FAMILIES: Final = (
    Family(
        "node_info",
        "Always 1; what runs is in the labels.",
        ("node", "ejabberd", "otp", "megaphone"),
    ),
    Family("node_uptime_seconds", "Time since the Erlang VM started."),
    Family("node_sample_age_seconds", "Age of what is sampled in the background.", ("sample",)),
    Family("sessions", "Sessions on this node, by virtual host.", ("vhost",)),
    Family("session_drift", "Sessions counted minus those found at the last reconciliation."),
    Family("session_rows_dead", "Rows of the session table whose process is gone."),
    Family("session_reconciliations_total", "Times that the sessions were looked for."),
    Family("logins_total", "Sessions opened."),
    Family("logouts_total", "Sessions closed."),
    Family("stanzas_total", "Stanzas from and to clients.", ("direction", "kind")),
    Family("broadcasts", "Broadcasts that are not over.", ("state",)),
    Family("broadcasts_finished_total", "Broadcasts that are over.", ("outcome",)),
    Family("recipients_total", "What became of recipients.", ("outcome",)),
    Family(
        "pipeline_heartbeat_seconds",
        "How long a batch of one takes to a worker and back.",
        histogram=True,
    ),
    Family("pipeline_heartbeats_total", "What became of these batches.", ("outcome",)),
    Family("pipeline_heartbeat_age_seconds", "Time since the last of them came back."),
    Family("port_program_restarts_total", "Times that the node started the program again."),
    Family("sidecar_turns_total", "Times that a sidecar became the active one."),
    Family("sidecar_refusals_total", "Connections of sidecars that were refused.", ("reason",)),
    Family("offline_messages_stored_total", "Messages stored for who is offline."),
    Family("vm_memory_bytes", "Memory that the Erlang VM has allocated.", ("category",)),
    Family("vm_processes", "Erlang processes."),
    Family("vm_processes_limit", "Erlang processes that there may be."),
    Family("vm_ports", "Erlang ports, sockets included."),
    Family("vm_ports_limit", "Erlang ports that there may be."),
    Family("vm_atoms", "Atoms, which are never freed."),
    Family("vm_atoms_limit", "Atoms that there may be."),
    Family("vm_ets_tables", "ETS tables."),
    Family("vm_ets_tables_limit", "ETS tables that the VM is set for."),
    Family("vm_file_descriptors", "File descriptors of the VM."),
    Family("vm_file_descriptors_limit", "File descriptors that the VM may have."),
    Family("vm_resident_memory_bytes", "Resident memory of the Erlang VM."),
    Family("vm_mailbox_messages", "Messages in all mailboxes."),
    Family("vm_mailbox_messages_max", "Messages in the longest mailbox."),
    Family(
        "vm_scheduler_utilization_ratio",
        "Share of their time that the schedulers have worked, over the last sample.",
        ("scheduler",),
    ),
    Family("vm_run_queue_tasks", "Processes and ports that are ready to run.", ("queue",)),
    Family("vm_schedulers_online", "Schedulers that run Erlang code."),
    Family("vm_reductions_total", "Reductions, the VM's measure of work."),
    Family("vm_garbage_collections_total", "Garbage collections of processes."),
    Family("vm_garbage_collected_bytes_total", "Memory that garbage collections have freed."),
    Family("vm_context_switches_total", "Times that a scheduler took up a process."),
    Family("vm_io_bytes_total", "Bytes through the VM's ports.", ("direction",)),
    Family("mnesia_table_records", "Records of a Mnesia table on this node.", ("table",)),
    Family("mnesia_table_memory_bytes", "Size of a Mnesia table on this node.", ("table",)),
    Family("mnesia_transactions_total", "Mnesia's transactions.", ("outcome",)),
    Family("mnesia_overload_events_total", "Mnesia's warnings that it is overloaded."),
    Family("cluster_nodes", "Nodes of the cluster, this one included.", ("state",)),
    Family("system_memory_bytes", "Memory of the machine, or of the control group."),
    Family("system_memory_available_bytes", "Memory that may still be used."),
    Family("system_cpus", "Processors that the node may use."),
)


#: What is shown on `/metrics/detailed`.
DETAILED: Final = (
    Family("detailed_sessions", "Sessions on this node, by virtual host.", ("vhost",)),
    Family("detailed_mailbox_messages", "Messages in a mailbox, by name.", ("process",)),
    Family("detailed_mnesia_table_records", "Records of a Mnesia table.", ("table",)),
    Family("detailed_mnesia_table_memory_bytes", "Size of a Mnesia table.", ("table",)),
)


class NodeCollector(Collector):
    """Shows what the node answered to the scrape that is under way.

    Args:
        registry: where to register.
        call: `erlang_port.transports.fds.PortConnection.call`.
        request: what the node is asked.
        families: what it may answer.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        call: Callable[[str, Term, float], Awaitable[Term]],
        request: Term = METRICS,
        families: Sequence[Family] = FAMILIES,
    ) -> None:
        self._call = call
        self._request = request
        self._families = families
        self._asking: asyncio.Task[None] | None = None
        self._answer: Mapping[bytes, Term] | None = None
        self._complained = False
        registry.register(self)

    async def refresh(self) -> None:
        """Ask the node, for `TIMEOUT` at most; those who come meanwhile share the answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        await asyncio.shield(self._asking)

    @property
    def answer(self) -> Mapping[bytes, Term] | None:
        """The newest answer, see docs/protocol.md; None when the node gave none."""
        return self._answer

    async def _ask(self) -> None:
        try:
            answer = await self._call("node", self._request, TIMEOUT)
        except Disconnected:
            # Whoever keeps the connection says so.
            self._answer = None
        except (CallError, EtfError) as error:
            self._without_answer(str(error))
        except TimeoutError:
            self._without_answer(f"it gave none within {TIMEOUT:g} s")
        else:
            if isinstance(answer, dict):
                self._answer = answer
                self._complained = False
            else:
                self._without_answer("its answer is no map")

    def _without_answer(self, reason: str) -> None:
        self._answer = None
        if not self._complained:
            _logger.warning("no metrics of the node: %s", reason)
        self._complained = True

    def histograms(self, name: str, labels: int) -> Iterator[tuple[list[str], Buckets]]:
        """Give the histograms of a metric that is shown elsewhere, each with its labels' values.

        Args:
            name: without the prefix.
            labels: how many it has.
        """
        if self._answer is not None:
            for values, number in _rows(self._answer.get(name.encode()), labels):
                if isinstance(number, Buckets):
                    yield values, number

    def collect(self) -> Iterator[Metric]:
        """Give the metrics; without an answer only that there is none."""
        answer = self._answer
        yield GaugeMetricFamily(
            "megaphone_up",
            "Whether the node answered this scrape.",
            float(answer is not None),
        )
        if answer is None:
            return
        for family in self._families:
            value = answer.get(family.name.encode())
            if value is not None:
                yield _metric(family, value)


def _metric(family: Family, value: Term) -> Metric:
    name, documentation = _PREFIX + family.name, family.documentation
    rows = _rows(value, len(family.labels))
    if family.histogram:
        histogram = HistogramMetricFamily(name, documentation, labels=family.labels)
        for labels, buckets in rows:
            if isinstance(buckets, Buckets):
                histogram.add_metric(labels, *buckets)
        return histogram
    kind = CounterMetricFamily if family.name.endswith("_total") else GaugeMetricFamily
    metric = kind(name, documentation, labels=family.labels)
    for labels, number in rows:
        if not isinstance(number, Buckets):
            metric.add_metric(labels, number)
    return metric


def _rows(value: Term, labels: int) -> Iterator[tuple[list[str], float | Buckets]]:
    """The values of a metric by their labels; what is not as docs/protocol.md says is left out."""
    for row in value if labels and isinstance(value, list) else [(value,)]:
        match row:
            case (*names, int() | float() as number) if len(names) == labels:
                yield [_text(name) for name in names], float(number)
            case (*names, (list(bounds), list(counts), int() | float() as total)) if (
                len(names) == labels
                and len(counts) == len(bounds) + 1
                and all(isinstance(number, int | float) for number in (*bounds, *counts))
            ):
                ends = [*map(floatToGoString, bounds), "+Inf"]
                buckets = list(zip(ends, itertools.accumulate(counts), strict=True))
                yield [_text(name) for name in names], Buckets(buckets, float(total))


def _text(label: Term) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)
