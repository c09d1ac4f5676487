"""What the dashboards show: the one place from which Grafana's and Prometheus's are made.

They read what /metrics has (docs/metrics.md) and nothing that rules record: they work without the
rules.
"""

from __future__ import annotations

from typing import Final

from metrics.dashboards.panel import Kind, Panel, Query, Row, Unit


def _row(title: str, *panels: Panel) -> Row:
    return Row(title, panels)


def _panel(
    title: str,
    unit: Unit,
    help_: str,
    *queries: Query,
    kind: Kind = "lines",
    logarithmic: bool = False,
    warning: float | None = None,
    critical: float | None = None,
) -> Panel:
    return Panel(title, unit, help_, queries, kind, logarithmic, warning, critical)


def _now(metric: str, legend: str) -> Query:
    return Query(f"{metric}{{$node}}", legend)


def _rate(metric: str, legend: str) -> Query:
    return Query(f"rate({metric}{{$node}}[$window])", legend)


def _quantile(quantile: float, metric: str, legend: str) -> Query:
    return Query(f"histogram_quantile({quantile}, rate({metric}_bucket{{$node}}[$window]))", legend)


def _used(name: str, legend: str) -> Query:
    return Query(f"megaphone_vm_{name}{{$node}} / megaphone_vm_{name}_limit{{$node}}", legend)


_HEADROOM: Final = _row(
    "Scaling headroom",
    _panel(
        "Users that still fit",
        "count",
        "How many more users the node can hold until its scarcest resource is used up.",
        Query("min(megaphone_capacity_sessions{$node}) - sum(megaphone_sessions{$node})", "users"),
        kind="figure",
    ),
    _panel(
        "Capacity in use",
        "ratio",
        "Open sessions as a share of what each resource can hold. The highest line ends first.",
        Query(
            "sum(megaphone_sessions{$node}) / on () group_right ()"
            " megaphone_capacity_sessions{$node}",
            "{resource}",
        ),
        warning=0.8,
        critical=0.95,
    ),
    _panel(
        "Capacity by resource",
        "count",
        "How many users the node could hold by each resource, from what a session costs now.",
        _now("megaphone_capacity_sessions", "{resource}"),
        Query("sum(megaphone_sessions{$node})", "open now"),
        logarithmic=True,
    ),
    _panel(
        "Limits of the VM in use",
        "ratio",
        "What is in use of the VM's hard limits, by sessions or by anything else.",
        _used("processes", "processes"),
        _used("ports", "ports"),
        _used("file_descriptors", "file descriptors"),
        _used("atoms", "atoms"),
        _used("ets_tables", "ETS tables"),
        warning=0.85,
    ),
    _panel(
        "Memory of the machine",
        "bytes",
        "The machine's memory, or the limit of the control group that the node runs in.",
        _now("megaphone_system_memory_bytes", "machine"),
        Query(
            "megaphone_system_memory_bytes{$node} - megaphone_system_memory_available_bytes{$node}",
            "in use",
        ),
        Query("sum(megaphone_vm_memory_bytes{$node})", "Erlang VM"),
    ),
)

_SESSIONS: Final = _row(
    "Sessions",
    _panel(
        "Open sessions",
        "count",
        "Sessions on this node, of all virtual hosts.",
        Query("sum(megaphone_sessions{$node})", "sessions"),
        kind="figure",
    ),
    _panel(
        "Sessions by virtual host",
        "count",
        "The largest virtual hosts; other is the rest of them.",
        _now("megaphone_sessions", "{vhost}"),
        kind="stack",
    ),
    _panel(
        "Logins and logouts",
        "count_per_second",
        "Sessions opened and closed. Both high: clients that reconnect in a loop.",
        _rate("megaphone_logins_total", "logins"),
        _rate("megaphone_logouts_total", "logouts"),
    ),
    _panel(
        "Stanzas",
        "count_per_second",
        "Stanzas from clients (in) and to clients (out).",
        _rate("megaphone_stanzas_total", "{kind} {direction}"),
    ),
    _panel(
        "Messages stored offline",
        "count_per_second",
        "Messages kept for users who are not online.",
        _rate("megaphone_offline_messages_stored_total", "stored"),
    ),
    _panel(
        "Drift of the count",
        "count",
        "What the last reconciliation found: a count that was off, and rows whose process is gone.",
        _now("megaphone_session_drift", "counted too many"),
        _now("megaphone_session_rows_dead", "rows of dead sessions"),
    ),
)

_BROADCAST: Final = _row(
    "Broadcast",
    _panel(
        "Broadcasts under way",
        "count",
        "Broadcasts that are not over, by state.",
        _now("megaphone_broadcasts", "{state}"),
    ),
    _panel(
        "Broadcasts ended",
        "count",
        "Since the module started at the node.",
        _now("megaphone_broadcasts_finished_total", "{outcome}"),
    ),
    _panel(
        "Recipients",
        "count_per_second",
        "What became of each recipient: sent, gone (no longer online), dropped, failed.",
        _rate("megaphone_recipients_total", "{outcome}"),
    ),
    _panel(
        "Stages of a batch",
        "seconds",
        "Nineteen of twenty batches take less; what is drawn just below 1 ms may be far less."
        " Empty while no broadcast runs.",
        _quantile(0.95, "megaphone_batch_stage_seconds", "{stage}"),
    ),
    _panel(
        "Batches that wait for a worker",
        "count",
        "Many for long: the template is slow, or there are too few workers.",
        _now("megaphone_batches_waiting", "waiting"),
    ),
    _panel(
        "Workers",
        "count",
        "Worker processes by state.",
        _now("megaphone_workers", "{state}"),
        kind="stack",
    ),
    _panel(
        "Batches",
        "count_per_second",
        "Batches answered, by outcome, and those that were given to a worker once more.",
        _rate("megaphone_batches_total", "{outcome}"),
        _rate("megaphone_batch_retries_total", "retried"),
    ),
    _panel(
        "Pipeline heartbeat",
        "seconds",
        "How long an item takes from the node through a worker and back, as a batch travels.",
        _quantile(0.5, "megaphone_pipeline_heartbeat_seconds", "median"),
        _quantile(0.95, "megaphone_pipeline_heartbeat_seconds", "95%"),
        warning=2.5,
    ),
    _panel(
        "Age of the heartbeat",
        "seconds",
        "Since the last such item came through; one is sent every few seconds.",
        _now("megaphone_pipeline_heartbeat_age_seconds", "age"),
        warning=4500.0,
    ),
)

_PORT: Final = _row(
    "Port",
    _panel(
        "Bytes over the port",
        "bytes_per_second",
        "As the port program sees it: received from the node, sent to it.",
        _rate("megaphone_port_bytes_total", "{direction}"),
    ),
    _panel(
        "Frames over the port",
        "count_per_second",
        "As the port program sees it: received from the node, sent to it.",
        _rate("megaphone_port_frames_total", "{direction}"),
    ),
    _panel(
        "Credit and queue",
        "bytes",
        "Bytes that the node still accepts, and bytes that wait until it does.",
        _now("megaphone_port_credit_bytes", "credit"),
        _now("megaphone_port_queued_bytes", "queued"),
    ),
    _panel(
        "Time that writing waited",
        "ratio",
        "The share of its time that writing to the node waited for the node to read.",
        _rate("megaphone_port_busy_seconds_total", "busy"),
        warning=0.5,
    ),
    _panel(
        "Calls in flight",
        "count",
        "Calls that are not answered yet, by who asks.",
        _now("megaphone_port_calls", "by the {caller}"),
    ),
    _panel(
        "Lag of the event loop",
        "seconds",
        "How late the port program's event loop was, at the worst in 60 s; a server may block it.",
        _now("megaphone_port_program_loop_lag_seconds", "lag"),
        warning=0.2,
    ),
    _panel(
        "Processors of Python",
        "cores",
        "Processor time of the port program and its workers; 1 is one core, busy.",
        _rate("megaphone_port_program_cpu_seconds_total", "port program"),
        _rate("megaphone_worker_cpu_seconds_total", "worker {worker}"),
    ),
    _panel(
        "Memory of Python",
        "bytes",
        "Resident memory of the port program and its workers.",
        _now("megaphone_port_program_resident_memory_bytes", "port program"),
        _now("megaphone_worker_resident_memory_bytes", "worker {worker}"),
        kind="stack",
    ),
    _panel(
        "Restarts",
        "count",
        "The port program, by the node; workers and children, by the supervisors within it.",
        _now("megaphone_port_program_restarts_total", "port program"),
        _now("megaphone_worker_restarts_total", "workers"),
        _now("megaphone_supervisor_restarts_total", "by {supervisor}"),
    ),
    _panel(
        "Faults on the port",
        "count",
        "Since the start: what could not be decoded, was no message, or found no room.",
        _now("megaphone_codec_errors_total", "not decoded"),
        _now("megaphone_port_discarded_frames_total", "no message"),
        _now("megaphone_port_dropped_log_lines_total", "log lines dropped"),
    ),
)

_VM: Final = _row(
    "VM",
    _panel(
        "Uptime",
        "seconds",
        "Since the node started.",
        _now("megaphone_node_uptime_seconds", "uptime"),
        kind="figure",
    ),
    _panel(
        "Scheduler utilization",
        "ratio",
        "How busy the schedulers are with Erlang's work.",
        _now("megaphone_vm_scheduler_utilization_ratio", "{scheduler}"),
        warning=0.9,
    ),
    _panel(
        "Run queues",
        "count",
        "Processes that wait for a scheduler. More than there are schedulers: latency grows.",
        _now("megaphone_vm_run_queue_tasks", "{queue}"),
        _now("megaphone_vm_schedulers_online", "schedulers"),
    ),
    _panel(
        "Memory of the VM",
        "bytes",
        "What the VM has allocated, by category.",
        _now("megaphone_vm_memory_bytes", "{category}"),
        kind="stack",
    ),
    _panel(
        "Processes, ports, tables",
        "count",
        "How many there are now.",
        _now("megaphone_vm_processes", "processes"),
        _now("megaphone_vm_ports", "ports"),
        _now("megaphone_vm_file_descriptors", "file descriptors"),
        _now("megaphone_vm_ets_tables", "ETS tables"),
        logarithmic=True,
    ),
    _panel(
        "Mailboxes",
        "count",
        "Messages that wait in mailboxes. A long one belongs to a process that cannot keep up.",
        _now("megaphone_vm_mailbox_messages_max", "the longest"),
        _now("megaphone_vm_mailbox_messages", "all together"),
        warning=10000,
    ),
    _panel(
        "Reductions",
        "count_per_second",
        "Function calls, roughly: how much Erlang does.",
        _rate("megaphone_vm_reductions_total", "reductions"),
    ),
    _panel(
        "Garbage collections and context switches",
        "count_per_second",
        "How often processes were collected and switched.",
        _rate("megaphone_vm_garbage_collections_total", "collections"),
        _rate("megaphone_vm_context_switches_total", "switches"),
    ),
    _panel(
        "Garbage collected",
        "bytes_per_second",
        "Memory that garbage collections gave back.",
        _rate("megaphone_vm_garbage_collected_bytes_total", "reclaimed"),
    ),
    _panel(
        "Input and output",
        "bytes_per_second",
        "Bytes over all ports of the VM: clients, other nodes, the port program.",
        _rate("megaphone_vm_io_bytes_total", "{direction}"),
    ),
    _panel(
        "Records of Mnesia's tables",
        "count",
        "The largest tables; other is the rest of them.",
        _now("megaphone_mnesia_table_records", "{table}"),
        logarithmic=True,
    ),
    _panel(
        "Memory of Mnesia's tables",
        "bytes",
        "The largest tables; other is the rest of them.",
        _now("megaphone_mnesia_table_memory_bytes", "{table}"),
        kind="stack",
    ),
    _panel(
        "Mnesia's transactions",
        "count_per_second",
        "By outcome, and how often Mnesia said that it cannot keep up.",
        _rate("megaphone_mnesia_transactions_total", "{outcome}"),
        _rate("megaphone_mnesia_overload_events_total", "overload events"),
    ),
    _panel(
        "Nodes of the cluster",
        "count",
        "As this node sees them.",
        _now("megaphone_cluster_nodes", "{state}"),
        kind="stack",
    ),
    _panel(
        "Age of the samples",
        "seconds",
        "What is dear to look at is sampled in the background; so old is what is shown of it.",
        _now("megaphone_node_sample_age_seconds", "{sample}"),
        warning=4500.0,
    ),
)

ROWS: Final = (_HEADROOM, _SESSIONS, _BROADCAST, _PORT, _VM)
