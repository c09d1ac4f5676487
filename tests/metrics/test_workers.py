from metrics.registry import new_registry
from metrics.workers import BATCH_OUTCOMES, CHECK_OUTCOMES, STATES, WorkerMetrics


def test_gauges_ask_when_they_are_read() -> None:
    registry = new_registry()
    states = {"starting": 1, "idle": 0, "busy": 2}
    waiting = [3]
    WorkerMetrics(registry).observe(
        in_state=lambda state: states[state],
        resident_memory=lambda: 4096,
        waiting=lambda: waiting[0],
        waiting_bytes=lambda: 77,
        pids=list,
    )
    for state in STATES:
        assert registry.get_sample_value("megaphone_workers", {"state": state}) == states[state]
    assert registry.get_sample_value("megaphone_workers_resident_memory_bytes") == 4096
    assert registry.get_sample_value("megaphone_batches_waiting_bytes") == 77
    waiting[0] = 5
    assert registry.get_sample_value("megaphone_batches_waiting") == 5


def test_every_outcome_is_there_from_the_beginning() -> None:
    registry = new_registry()
    WorkerMetrics(registry)
    for outcome in BATCH_OUTCOMES:
        assert registry.get_sample_value("megaphone_batches_total", {"outcome": outcome}) == 0
    for outcome in CHECK_OUTCOMES:
        labels = {"outcome": outcome}
        assert registry.get_sample_value("megaphone_template_checks_total", labels) == 0
