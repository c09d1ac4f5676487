"""A supervision tree to look at, as nested maps.

It is read without a message, so that a supervisor that waits for a child to start or to stop holds
nobody up.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from erlang_port.otp import os_process
from erlang_port.otp.supervisor_server import servers

if TYPE_CHECKING:
    from erlang_port.otp.children import Child
    from erlang_port.otp.process import Process


def supervision_tree(process: Process) -> dict[str, Any]:
    """Describe a supervisor and everything under it.

    Returns:
        `id`, `type` (supervisor | worker | os_process), `state` (running | restarting | stopped),
        `restarts`, `uptime_seconds` (None unless it runs), `os_pid` (None unless an os_process
        runs) and `children`, in the order of starting.
    """
    server = servers.get(process)
    return {
        "id": process.label,
        "type": "supervisor",
        "state": "running" if process.alive else "stopped",
        "restarts": 0,
        "uptime_seconds": None if server is None else time.monotonic() - server.since,
        "os_pid": None,
        "children": _children(process),
    }


def _children(process: Process | None) -> list[dict[str, Any]]:
    server = None if process is None else servers.get(process)
    return [] if server is None else [_child(child) for child in server.children]


def _child(child: Child) -> dict[str, Any]:
    process = child.process
    is_os_process = child.spec.start is os_process.start_link
    return {
        "id": _text(child.spec.id),
        "type": "os_process" if is_os_process else child.spec.type,
        "state": "restarting" if child.restarting else "running" if child.active else "stopped",
        "restarts": child.restarts,
        "uptime_seconds": child.uptime,
        "os_pid": os_process.pids.get(process) if process is not None and process.alive else None,
        "children": _children(process),
    }


def _text(child_id: object) -> str:
    if isinstance(child_id, bytes):
        return child_id.decode(errors="replace")
    return child_id if isinstance(child_id, str) else repr(child_id)
