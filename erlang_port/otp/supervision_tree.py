"""A supervision tree to look at, as nested maps.

It is read without a message, so that a supervisor that waits for a child to start or to stop holds
nobody up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from erlang_port.otp.supervisor_server import servers

if TYPE_CHECKING:
    from erlang_port.otp.children import Child
    from erlang_port.otp.process import Process


def supervision_tree(
    process: Process, below: Mapping[str, list[dict[str, Any]]] | None = None
) -> dict[str, Any]:
    """Describe a supervisor and everything under it.

    Args:
        process: The supervisor.
        below: What children keep that is not supervised, by their ids.

    Returns:
        `id`, `type` (worker | supervisor), `state` (running | restarting | stopped), `restarts`,
        `uptime_seconds` (None unless it runs) and `children`, in the order of starting.
    """
    server = servers.get(process)
    return {
        "id": process.label,
        "type": "supervisor",
        "state": "running" if process.alive else "stopped",
        "restarts": 0,
        "uptime_seconds": None if server is None else time.monotonic() - server.since,
        "children": _children(process, below or {}),
    }


def _children(process: Process, below: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    server = servers.get(process)
    return [] if server is None else [_child(child, below) for child in server.children]


def _child(child: Child, below: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    child_id = _text(child.spec.id)
    return {
        "id": child_id,
        "type": child.spec.type,
        "state": "restarting" if child.restarting else "running" if child.active else "stopped",
        "restarts": child.restarts,
        "uptime_seconds": child.uptime,
        "children": [
            *([] if child.process is None else _children(child.process, below)),
            *below.get(child_id, []),
        ],
    }


def _text(child_id: object) -> str:
    if isinstance(child_id, bytes):
        return child_id.decode(errors="replace")
    return child_id if isinstance(child_id, str) else repr(child_id)
