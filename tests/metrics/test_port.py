from erlang_port.transports.fds import Statistics
from metrics.port import PortCollector
from metrics.registry import new_registry

FIGURES = Statistics(
    frames_received=1,
    bytes_received=2,
    frames_sent=3,
    bytes_sent=4,
    credit=5,
    queued=6,
    calls_waiting=7,
    calls_handled=8,
    discarded=9,
    undecoded=11,
    logs_dropped=10,
    heartbeat_age=0.5,
    loop_lag=0.25,
    busy=1.5,
)


def test_every_figure_of_the_connection() -> None:
    registry = new_registry()
    PortCollector(registry, lambda: FIGURES, lambda: False)
    value = registry.get_sample_value
    assert value("megaphone_port_connected") == 1
    assert value("megaphone_port_standing_by") == 0
    assert value("megaphone_port_frames_total", {"direction": "received"}) == 1
    assert value("megaphone_port_bytes_total", {"direction": "received"}) == 2
    assert value("megaphone_port_frames_total", {"direction": "sent"}) == 3
    assert value("megaphone_port_bytes_total", {"direction": "sent"}) == 4
    assert value("megaphone_port_credit_bytes") == 5
    assert value("megaphone_port_queued_bytes") == 6
    assert value("megaphone_port_calls", {"caller": "program"}) == 7
    assert value("megaphone_port_calls", {"caller": "node"}) == 8
    assert value("megaphone_port_discarded_frames_total") == 9
    assert value("megaphone_port_dropped_log_lines_total") == 10
    assert value("megaphone_codec_errors_total") == 11
    assert value("megaphone_port_busy_seconds_total") == 1.5
    assert value("megaphone_port_heartbeat_age_seconds") == 0.5
    assert value("megaphone_port_program_loop_lag_seconds") == 0.25


def test_without_a_connection_only_that_there_is_none() -> None:
    registry = new_registry()
    PortCollector(registry, lambda: None, lambda: True)
    assert [family.name for family in registry.collect()] == [
        "megaphone_port_connected",
        "megaphone_port_standing_by",
    ]
    assert registry.get_sample_value("megaphone_port_connected") == 0
    assert registry.get_sample_value("megaphone_port_standing_by") == 1
