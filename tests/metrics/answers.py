"""What a node may answer when it is asked for its metrics (docs/protocol.md)."""

from metrics.node import DETAILED, FAMILIES, Family

_HISTOGRAM = ([0.1], [1, 2], 0.5)


def answered(family: Family) -> object:
    """What the node may answer for a metric, one of each label."""
    value = _HISTOGRAM if family.histogram else 1
    return [(*family.labels, value)] if family.labels else value


async def everything(*_: object) -> dict[bytes, object]:
    """A node that answers every metric there is."""
    return {family.name.encode(): answered(family) for family in (*FAMILIES, *DETAILED)} | {
        b"batch_stage_seconds": [(b"resolve", _HISTOGRAM), (b"route", _HISTOGRAM)]
    }


def answer(sessions, uptime=100.0, **changes):
    """What the capacity estimate reads, with so many sessions on two vhosts."""
    known = {
        "node_uptime_seconds": uptime,
        "sessions": [(b"a.example", sessions // 2), (b"other", sessions - sessions // 2)],
        "vm_processes": 300 + 2 * sessions,
        "vm_processes_limit": 262_144,
        "vm_ports": 20 + sessions,
        "vm_ports_limit": 65_536,
        "vm_file_descriptors": 40 + sessions,
        "vm_file_descriptors_limit": 1_048_576,
        "vm_memory_bytes": [(b"processes", 6000 * sessions), (b"other", 50_000_000)],
        "vm_resident_memory_bytes": 90_000_000 + 6600 * sessions,
        "system_memory_available_bytes": 16_000_000_000 - 6600 * sessions,
        "vm_schedulers_online": 2,
        "vm_scheduler_utilization_ratio": [(b"normal", sessions / 100_000), (b"dirty_io", 0.9)],
    }
    found = {name.encode(): value for name, value in {**known, **changes}.items()}
    return {name: value for name, value in found.items() if value is not None}
