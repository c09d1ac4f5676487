"""The socket of the command line: what it asks of the node goes over the sidecar's connection.

HTTP on a Unix socket that only its user can open: whoever may open it may broadcast.

    GET  /v1/status            the whole status
    POST /v1/broadcasts        a request as docs/protocol.md has it; the accepted broadcast
    GET  /v1/broadcasts/ID     how far it is

A document `{"error": {"field", "what", "remedy"}}` says why something was refused. 503: there is no
node to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from bridge import logs
from erlang_port.etf import Atom, EtfError
from erlang_port.transports.fds import CallError, Disconnected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from erlang_port.etf import Term
    from erlang_port.otp.coroutine_child import Started
    from erlang_port.transports.fds import PortConnection

#: The name that answers at the node.
NODE: Final = "commands"
#: Seconds that the node has for a command: it checks a broadcast's templates with a worker.
TIMEOUT: Final = 30.0
#: Bytes of a request, the node's own limit.
LIMIT: Final = 1024 * 1024
#: Seconds between two attempts to listen.
RETRY: Final = 5.0

_logger = logs.get_logger("megaphone.control")


class ControlServer:
    """Listens, and tries again for as long as it cannot.

    Args:
        path: Where.
        port: The connection to the node.
        status: Gives the whole status.
    """

    def __init__(
        self, path: Path, port: PortConnection, status: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        self._path = path
        self._port = port
        self._status = status
        # Of the socket's file that this one has made.
        self._inode: int | None = None

    async def run(self, started: Started) -> None:
        """Listen until cancelled; that it cannot yet is not for the supervisor."""
        started()
        application = web.Application(client_max_size=LIMIT)
        application.add_routes(
            [
                web.get("/v1/status", self._get_status),
                web.post("/v1/broadcasts", self._post_broadcast),
                web.get("/v1/broadcasts/{id}", self._get_broadcast),
            ]
        )
        runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await runner.setup()
        try:
            await self._listen(runner)
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()
            with contextlib.suppress(OSError):
                # What else is there, or came there since, is not this one's to remove.
                if self._inode == self._path.lstat().st_ino:
                    self._path.unlink()

    async def _listen(self, runner: web.AppRunner) -> None:
        told: str | None = None
        while True:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                await asyncio.to_thread(_free, self._path)
                listener = _bound(self._path)
                self._inode = self._path.lstat().st_ino
                try:
                    await web.SockSite(runner, listener, backlog=8).start()
                except BaseException:
                    asyncio.get_running_loop().remove_reader(listener)
                    listener.close()
                    raise
            except OSError as error:
                reason = error.strerror or str(error)
                if reason != told:
                    told = reason
                    _logger.error(
                        "the command line cannot be served: set sidecar.control_socket",
                        path=str(self._path),
                        reason=reason,
                    )
                await asyncio.sleep(RETRY)
            else:
                return

    async def _get_status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._status())

    async def _post_broadcast(self, request: web.Request) -> web.Response:
        return await self._command((Atom("broadcast"), await request.read()))

    async def _get_broadcast(self, request: web.Request) -> web.Response:
        return await self._command((Atom("broadcast_status"), request.match_info["id"].encode()))

    async def _command(self, request: Term) -> web.Response:
        try:
            answer = await self._port.call(NODE, request, TIMEOUT)
        except (Disconnected, CallError, EtfError) as error:
            return _unavailable(str(error))
        except TimeoutError:
            return _unavailable(f"the node did not answer within {TIMEOUT:g} s")
        if not isinstance(answer, bytes):
            return _unavailable("the node's answer is no document")
        return web.Response(body=answer, content_type="application/json")


def _unavailable(reason: str) -> web.Response:
    return web.Response(
        status=503, body=json.dumps({"reason": reason}).encode(), content_type="application/json"
    )


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made for its user alone from the first moment. At once: no process is started meanwhile, which
    # would keep the mask, and no other thread makes more than a file of this user's own.
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _free(path: Path) -> None:
    """Take away a socket that a killed sidecar has left.

    Raises:
        OSError: Another one listens there, or it is no socket.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(None, "it is there already, and no socket: remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(None, "another sidecar listens there")
