"""The sidecar's way to the node, as `bridge.app.Megaphone` takes it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.http import status
from bridge.sidecar.connector import Connector
from bridge.sidecar.control import ControlServer
from erlang_port.otp import supervisor
from erlang_port.otp.coroutine_child import coroutine_child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from bridge.app import Megaphone
    from bridge.config import Sidecar
    from bridge.sidecar.notify import Notifier
    from bridge.sidecar.state import State
    from erlang_port.otp.child_spec import ChildSpec
    from erlang_port.otp.remote import Node
    from erlang_port.protocol import Peer
    from erlang_port.transports.fds import PortConnection


class SidecarWay:
    """The program connects to the node by itself, and outlives it.

    Args:
        settings: Where to.
        state: What is kept.
        notifier: Who is told how it does.
    """

    def __init__(self, settings: Sidecar, state: State, notifier: Notifier) -> None:
        self._settings = settings
        self._state = state
        self._notifier = notifier
        self._connector: Connector | None = None

    def child(self, megaphone: Megaphone) -> ChildSpec:
        """See `bridge.app.Way`."""
        connector = Connector(self._settings, self._state, megaphone.port, self._notifier.status)
        self._connector = connector
        return coroutine_child("port", partial(connector.keep, _Attached(megaphone)), shutdown=3.0)

    def more(self, megaphone: Megaphone) -> Sequence[ChildSpec]:
        """See `bridge.app.Way`: the socket of the command line, and what tells systemd."""
        control = ControlServer(
            self._settings.control_socket, megaphone.port, megaphone.status.whole
        )
        return (
            coroutine_child("control", control.run),
            coroutine_child("notify", self._notifier.run),
        )

    def routes(self, megaphone: Megaphone) -> Sequence[web.RouteDef]:
        """See `bridge.app.Way`: others may reach them, so no more than is needed."""
        return status.routes(megaphone.status.whole, with_events=False)

    def reasons(self, port: PortConnection) -> list[str]:
        """See `bridge.app.Way`."""
        del port
        return self._connector.reasons() if self._connector else []

    def standing_by(self) -> bool:
        """See `bridge.app.Way`."""
        return self._connector is not None and self._connector.condition == "standby"

    def status(self) -> dict[str, Any] | None:
        """See `bridge.app.Way`."""
        return self._connector.status() if self._connector else None


class _Attached:
    """What goes on while the sidecar is the active one."""

    def __init__(self, megaphone: Megaphone) -> None:
        self._megaphone = megaphone
        self._node: Node | None = None
        self._servers = False

    async def attached(self, peer: Peer) -> None:
        """The processes have a node, and the operator's own servers start."""
        self._node = self._megaphone.attach(peer)
        own = self._megaphone.servers()
        if own is not None:
            await supervisor.start_child(await self._megaphone.up(), own)
            self._servers = True

    async def detached(self) -> None:
        """They end: their names and callers were the node's. What it asked for is forgotten."""
        self._megaphone.pool.forget()
        if self._node is not None:
            self._node.disconnected()
            self._node = None
        if self._servers:
            self._servers = False
            await supervisor.terminate_child(self._megaphone.top, "servers")
            await supervisor.delete_child(self._megaphone.top, "servers")
