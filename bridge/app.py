"""The application: what the port program runs, as one supervision tree."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bridge import logs, servers
from bridge.fanout import service
from bridge.fanout.pool import WorkerPool
from bridge.http import health, page, status
from bridge.http import metrics as exposition
from bridge.http.metrics import Exposed
from bridge.http.server import HttpServer
from bridge.status import Status
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
    from bridge.config import Configuration
    from erlang_port.otp.coroutine_child import Started
    from erlang_port.otp.process import Process
    from erlang_port.startup import OutputCapture

_logger = logs.get_logger("megaphone")


class Failed(Exception):  # noqa: N818  # says what the program has
    """A part of the application failed again and again."""


class Megaphone(Application):
    """The application.

        Supervisor
          port      PortConnection: its end is the program's end
          workers   Supervisor: the worker processes
          headroom  Headroom: how many sessions the node could hold
          http      HttpServer
          servers   Supervisor: the operator's own gen_servers

    Args:
        configuration: all of it.
        descriptors: where the node's bytes come from, and where they go to.
        output: what is printed; it reaches the node's log once there is a connection.
    """

    def __init__(
        self, configuration: Configuration, descriptors: tuple[int, int], output: OutputCapture
    ) -> None:
        registry, details = new_registry(), new_registry()
        self._output = output
        self._descriptors = descriptors
        # Why the connection ended, when that was not this program's own doing.
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._log = configuration.log
        self._top: Process | None = None
        self._port = PortConnection(name="port_program", version=__version__)
        node = NodeCollector(registry, self._port.call)
        in_detail = NodeCollector(details, self._port.call, METRICS_DETAILED, DETAILED)
        pool = self._pool = WorkerPool(
            configuration.workers, self._port.send_batch_answer, WorkerMetrics(registry, node)
        )
        http = HttpServer(configuration.http) if configuration.http.enabled else None
        headroom = Headroom(registry, node)
        state = Status(self._port, pool, http, headroom, self._supervision_tree, _processes)

        RuntimeCollector(registry, _processes, self._supervision_tree)
        PortCollector(registry, lambda: self._port.statistics() if self._port.connected else None)
        ProgramCollector(registry, __version__)
        service.register(self._port, pool)
        state.register()

        # Stopped in reverse: what is queued for the port still goes out.
        children = [
            coroutine_child("port", self._keep_port, restart="temporary"),
            ChildSpec("workers", pool.start_link, type="supervisor", shutdown=4.0),
            coroutine_child("headroom", headroom.run),
        ]
        if http is not None:
            http.add_routes(health.routes(state.reasons))
            http.add_routes(
                exposition.routes(
                    Exposed(registry, node.refresh), Exposed(details, in_detail.refresh)
                )
            )
            http.add_routes(status.routes(state.whole))
            http.add_routes(page.routes())
            children.append(coroutine_child("http", http.run, shutdown=3.0))
        if configuration.servers:
            own = (configuration.servers, configuration.python_path)
            children.append(ChildSpec("servers", servers.start_link, own, type="supervisor"))
        self._tree = Tree("megaphone", Flags(intensity=3, period=60.0), children)

    async def start(self, start_type: str, args: None) -> Process | None:
        """See `erlang_port.otp.application.Application.start`."""
        del start_type, args
        self._top = await supervisor.start_link(self._tree)
        return self._top

    def _supervision_tree(self) -> dict[str, Any] | None:
        return None if self._top is None else supervision_tree(self._top)

    async def run(self) -> None:
        """Run until SIGTERM, or until the connection to the node is over.

        Raises:
            Disconnected: the connection ended.
            ApplicationError: there never was one.
            Failed: a part of the application failed again and again.
        """
        try:
            await application.run(
                ApplicationSpec("megaphone", self, vsn=__version__), over=self._over
            )
        except Terminated as error:
            raise Failed(self._tree.gave_up or str(error)) from None
        if self._over.done():
            raise Disconnected(self._over.result())

    async def _keep_port(self, started: Started) -> None:
        try:
            peer = await self._port.connect(*self._descriptors)
            self._output.attach(self._port.log)
            logs.pass_on(self._port.log, self._log)
            node = attach(Runtime.here(), self._port, peer.name)
            self._port.on_signals = node.take
            _logger.info("connected", version=__version__, node=peer.name)
            started()
            self._over.set_result(await self._port.closed())
        finally:
            try:
                # The last words go out first; what is said after them goes to stderr.
                await asyncio.to_thread(self._output.stop)
            finally:
                await self._port.close("the program stops")


def _processes() -> int:
    return len(Runtime.here().processes)
