"""The status: the bridge's own part, and the whole of it put together with the node's."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from bridge.version import __version__
from erlang_port.etf import Atom, EtfError
from erlang_port.transports.fds import CallError, Disconnected
from metrics.program import resident_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.fanout.pool import WorkerPool
    from bridge.http.server import HttpServer
    from erlang_port.etf import Term
    from erlang_port.transports.fds import PortConnection
    from metrics.headroom import Headroom

#: The name that answers at this end, and the one that answers at the node's.
NAME: Final = "bridge"
NODE: Final = "node"

#: Seconds that the node has for its part.
NODE_TIMEOUT: Final = 2.0


class Connection(Protocol):
    """What the status tells of how the connection comes about, see `bridge.app.Way`."""

    def reasons(self, port: PortConnection) -> list[str]:
        """Why no batch can come, a line each."""

    def status(self) -> dict[str, Any] | None:
        """The sidecar's part."""


class Sources(NamedTuple):
    """What the status is made of."""

    port: PortConnection
    pool: WorkerPool
    http: HttpServer | None
    headroom: Headroom
    way: Connection
    tree: Callable[[], dict[str, Any] | None]
    processes: Callable[[], int]


class Status:
    """Answers what the status is, see docs/protocol.md."""

    def __init__(self, sources: Sources) -> None:
        self._port, self._pool, self._http, self._headroom, self._way = sources[:5]
        self._tree, self._processes = sources.tree, sources.processes
        self._started = time.monotonic()

    def register(self) -> None:
        """Answer the node's calls to `bridge`."""
        self._port.register(NAME, self._handle)

    async def _handle(self, request: Term) -> Term:
        if request != "status":
            raise CallError("badarg", "the request is status")
        return self.own()

    def own(self) -> dict[str, Any]:
        """Give the bridge's part."""
        workers = self._pool.status()
        estimates = self._headroom.estimates()
        return {
            "bridge": {
                "version": __version__,
                "python": platform.python_version(),
                "pid": os.getpid(),
                "uptime_seconds": time.monotonic() - self._started,
                "http": self._http.url if self._http else None,
                "http_error": self._http.error if self._http else None,
                "rss_bytes": resident_memory(),
                "loop_lag_seconds": self._port.statistics().loop_lag,
                "workers": workers,
                "worker_restarts": sum(worker["restarts"] for worker in workers),
                "processes": self._processes(),
                "capacity": estimates and [estimate._asdict() for estimate in estimates],
                "sidecar": self._way.status(),
                "tree": self._tree(),
            }
        }

    async def whole(self) -> dict[str, Any]:
        """Give both parts, as JSON can hold them."""
        return await self._node_part() | self.own()

    async def _node_part(self) -> dict[str, Any]:
        try:
            answer = as_json(await self._port.call(NODE, Atom("status"), NODE_TIMEOUT))
        except (CallError, Disconnected, EtfError) as error:
            return self._without_node(str(error))
        except TimeoutError:
            return self._without_node(f"the node gave no status within {NODE_TIMEOUT:g} s")
        if not isinstance(answer, dict):
            return self._without_node("the node's status is no map")
        return answer

    def _without_node(self, reason: str) -> dict[str, Any]:
        state = "connected" if self._port.connected else "down"
        own = self._way.status()
        if own is not None and not self._port.connected:
            state = "standby" if own["state"] == "standby" else state
            reason = own["error"] or "another sidecar is connected, and this one stands by"
        return {"node": None, "port": {"state": state, "reason": reason}, "broadcasts": []}

    def reasons(self) -> list[str]:
        """Say what is not ready, a line each; nothing when all is."""
        return self._way.reasons(self._port) + self._pool.reasons()


def as_json(term: Term) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Make of a term what JSON can hold: binaries and atoms become strings, tuples lists."""
    match term:
        case None | bool() | int() | float():
            return term
        case bytes():
            return term.decode(errors="replace")
        case str():
            return str(term)
        case list() | tuple():
            return [as_json(item) for item in term]
        case dict():
            return {str(as_json(key)): as_json(value) for key, value in term.items()}
    return repr(term)
