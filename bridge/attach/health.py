"""What `megaphone_status` says, and waiting until it says that Megaphone works."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.attach.ejabberdctl import NotAttachedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.attach.ejabberdctl import Ejabberdctl

#: Seconds between two questions; one takes about half a second itself.
POLL_INTERVAL: Final = 0.3

#: States of a worker that has imported what it needs.
_READY: Final = frozenset({"idle", "busy"})


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the port program answers and formats.

    Attributes:
        down: The node has given it up for now, or can listen for no sidecar.
        waiting: The node starts none itself, and listens for a sidecar.
    """

    connected: bool
    down: bool
    reason: str
    version: str | None
    waiting: bool = False


def judge(status: Mapping[str, Any]) -> Health:
    """Reads a status document (docs/protocol.md)."""
    port = _mapping(status, "port")
    bridge = _mapping(status, "bridge")
    workers = bridge.get("workers")
    ready = [
        worker
        for worker in (workers if isinstance(workers, list) else [])
        if isinstance(worker, dict) and worker.get("state") in _READY
    ]
    state = port.get("state")
    sidecars = _mapping(status, "sidecars")
    version = _mapping(status, "node").get("version")
    if state == "waiting":
        reason = f"no sidecar is connected: {_sidecars(sidecars, port)}"
    elif state != "connected":
        reason = f"the port is {state}"
        if port.get("reason"):
            reason += f": {port['reason']}"
    elif not ready:
        reason = "the port program answers, but no worker is ready"
    else:
        reason = ""
    return Health(
        connected=state == "connected" and bool(ready),
        down=state == "down" or (state == "waiting" and bool(sidecars.get("error"))),
        reason=reason,
        version=version if isinstance(version, str) else None,
        waiting=state == "waiting" and bool(sidecars.get("listening")),
    )


def wait(ctl: Ejabberdctl, timeout: float) -> tuple[Health, dict[str, Any]]:
    """Asks until a worker is ready, or the node listens for sidecars; or the node gives up, or we.

    Args:
        ctl: The node.
        timeout: Seconds.

    Returns:
        The last health and the document that it was read from.

    Raises:
        NotAttachedError: The module did not start.
        CommandError: As `Ejabberdctl.json`.
    """
    deadline = time.monotonic() + timeout
    while True:
        status = ctl.json("megaphone_status")
        health = judge(status)
        settled = health.connected or health.waiting or health.down
        if settled or time.monotonic() >= deadline:
            return health, status
        time.sleep(POLL_INTERVAL)


def _sidecars(sidecars: Mapping[str, Any], port: Mapping[str, Any]) -> str:
    if sidecars.get("error"):
        return str(sidecars["error"])
    last = f"; the last one: {port['reason']}" if port.get("reason") else ""
    return f"the node waits for one at {sidecars.get('listening')}{last}"


def attached(ctl: Ejabberdctl) -> dict[str, Any] | None:
    """The status document, None when the node knows no mod_megaphone."""
    try:
        return ctl.json("megaphone_status")
    except NotAttachedError:
        return None


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}
