"""The node's answers, as docs/protocol.md says that they are."""


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
