"""The application: what the port program and the sidecar run, as one supervision tree."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bridge import logs, servers
from bridge.fanout import service
from bridge.fanout.pool import WorkerPool
from bridge.http import health, page, status
from bridge.http import metrics as exposition
from bridge.http.metrics import Exposed
from bridge.http.server import HttpServer
from bridge.status import Sources, Status
from bridge.version import __version__
from erlang_port.otp import application, supervisor
from erlang_port.otp.application import Application, ApplicationSpec, Terminated
from erlang_port.otp.coroutine_child import coroutine_child
from erlang_port.otp.remote import attach
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.supervision_tree import supervision_tree
from erlang_port.otp.supervisor import ChildSpec, Flags, Tree
from erlang_port.transports.fds import Disconnected, PortConnection
from metrics.headroom import Headroom
from metrics.node import DETAILED, METRICS_DETAILED, NodeCollector
from metrics.port import PortCollector
from metrics.program import ProgramCollector
from metrics.registry import new_registry
from metrics.runtime import RuntimeCollector
from metrics.workers import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from bridge.config import Configuration
    from erlang_port.otp.coroutine_child import Started
    from erlang_port.otp.process import Process
    from erlang_port.otp.remote import Node
    from erlang_port.protocol import Peer
    from erlang_port.startup import OutputCapture

_logger = logs.get_logger("megaphone")


class Failed(Exception):  # noqa: N818  # says what the program has
    """A part of the application failed again and again."""


class Way(Protocol):
    """How the connection to the node comes about: as the node's port, or as its sidecar."""

    def child(self, megaphone: Megaphone) -> ChildSpec:
        """The child that keeps the connection."""

    def more(self, megaphone: Megaphone) -> Sequence[ChildSpec]:
        """What else belongs to it, started last."""

    def routes(self, megaphone: Megaphone) -> Sequence[web.RouteDef]:
        """What is served by HTTP beside health, metrics and status."""

    def reasons(self, port: PortConnection) -> list[str]:
        """Why no batch can come, a line each."""

    def standing_by(self) -> bool:
        """Whether another one is connected in its place."""

    def status(self) -> dict[str, Any] | None:
        """The sidecar's part of the status."""


class Megaphone(Application):
    """The application.

        Supervisor
          port      PortConnection, kept by its `Way`
          workers   Supervisor: the worker processes
          headroom  Headroom: how many sessions the node could hold
          http      HttpServer
          servers   Supervisor: the operator's own gen_servers, while there is a connection

    Args:
        configuration: all of it.
        way: how the connection comes about.

    Attributes:
        over: why the program ends, once it is to end by itself.
        port: the connection.
        top: the supervisor, once it has started.
    """

    def __init__(self, configuration: Configuration, way: Way) -> None:
        registry, details = new_registry(), new_registry()
        self.configuration = configuration
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.top: Process | None = None
        self._up = asyncio.Event()
        self.port = PortConnection(name="port_program", version=__version__)
        node = NodeCollector(registry, self.port.call)
        in_detail = NodeCollector(details, self.port.call, METRICS_DETAILED, DETAILED)
        self.pool = WorkerPool(
            configuration.workers, self.port.send_batch_answer, WorkerMetrics(registry, node)
        )
        http = HttpServer(configuration.http) if configuration.http.enabled else None
        headroom = Headroom(registry, node)
        self.status = Status(
            Sources(self.port, self.pool, http, headroom, way, self._supervision_tree, _processes)
        )

        RuntimeCollector(registry, _processes, self._supervision_tree)
        PortCollector(
            registry,
            lambda: self.port.statistics() if self.port.connected else None,
            way.standing_by,
        )
        ProgramCollector(registry, __version__)
        service.register(self.port, self.pool)
        self.status.register()

        # Stopped in reverse: what is queued for the port still goes out.
        children = [
            way.child(self),
            ChildSpec("workers", self.pool.start_link, type="supervisor", shutdown=4.0),
            coroutine_child("headroom", headroom.run),
        ]
        if http is not None:
            http.add_routes(health.routes(self.status.reasons, way.standing_by))
            http.add_routes(
                exposition.routes(
                    Exposed(registry, node.refresh), Exposed(details, in_detail.refresh)
                )
            )
            http.add_routes(way.routes(self))
            children.append(coroutine_child("http", http.run, shutdown=3.0))
        children += way.more(self)
        self._tree = Tree("megaphone", Flags(intensity=3, period=60.0), children)

    async def start(self, start_type: str, args: None) -> Process | None:
        """See `erlang_port.otp.application.Application.start`."""
        del start_type, args
        self.top = await supervisor.start_link(self._tree)
        self._up.set()
        return self.top

    async def up(self) -> Process:
        """Give the supervisor, once all of its children have been started."""
        await self._up.wait()
        assert self.top is not None  # noqa: S101  # a tree ignores no start
        return self.top

    def _supervision_tree(self) -> dict[str, Any] | None:
        return None if self.top is None else supervision_tree(self.top)

    def servers(self) -> ChildSpec | None:
        """The child that the operator's own gen_servers are; None: there are none."""
        if not self.configuration.servers:
            return None
        own = (self.configuration.servers, self.configuration.python_path)
        return ChildSpec("servers", servers.start_link, own, type="supervisor")

    def attach(self, peer: Peer) -> Node:
        """Make the connection the processes' way to the node."""
        node = attach(Runtime.here(), self.port, peer.name)
        self.port.on_signals = node.take
        return node

    async def run(self, signals: Sequence[signal.Signals] = (signal.SIGTERM,)) -> None:
        """Run until one of the signals, or until `over` is set.

        Raises:
            Disconnected: `over` was set.
            ApplicationError: the tree did not start.
            Failed: a part of the application failed again and again.
        """
        try:
            await application.run(
                ApplicationSpec("megaphone", self, vsn=__version__), over=self.over, signals=signals
            )
        except Terminated as error:
            raise Failed(self._tree.gave_up or str(error)) from None
        if self.over.done():
            raise Disconnected(self.over.result())


class PortWay:
    """The node has started this program, and ends with it.

    Args:
        descriptors: where the node's bytes come from, and where they go to.
        output: what is printed; it reaches the node's log once there is a connection.
    """

    def __init__(self, descriptors: tuple[int, int], output: OutputCapture) -> None:
        self._descriptors = descriptors
        self._output = output

    def child(self, megaphone: Megaphone) -> ChildSpec:
        """See `Way`: its end is the program's end."""
        return coroutine_child("port", partial(self._keep, megaphone), restart="temporary")

    def more(self, megaphone: Megaphone) -> Sequence[ChildSpec]:
        """See `Way`."""
        own = megaphone.servers()
        return () if own is None else (own,)

    def routes(self, megaphone: Megaphone) -> Sequence[web.RouteDef]:
        """See `Way`: the page, too."""
        return (*status.routes(megaphone.status.whole), *page.routes())

    def reasons(self, port: PortConnection) -> list[str]:
        """See `Way`."""
        return [] if port.connected else ["port: not connected to the node"]

    def standing_by(self) -> bool:
        """See `Way`."""
        return False

    def status(self) -> dict[str, Any] | None:
        """See `Way`."""
        return None

    async def _keep(self, megaphone: Megaphone, started: Started) -> None:
        port = megaphone.port
        try:
            peer = await port.connect(*self._descriptors)
            self._output.attach(port.log)
            logs.pass_on(port.log, megaphone.configuration.log)
            megaphone.attach(peer)
            _logger.info("connected", version=__version__, node=peer.name)
            started()
            megaphone.over.set_result(await port.closed())
        finally:
            try:
                # The last words go out first; what is said after them goes to stderr.
                await asyncio.to_thread(self._output.stop)
            finally:
                await port.close("the program stops")


def _processes() -> int:
    return len(Runtime.here().processes)
