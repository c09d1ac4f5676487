"""The HTTP server: loopback by default, GET only, bounded; never a reason to end the program."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge import logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler, Middleware

    from bridge.config import Http
    from erlang_port.otp.coroutine_child import Started

#: Connections at a time; one more, and the oldest is closed: who holds them all keeps nobody out.
#: Those that come in one turn of the loop, `BACKLOG` at most, count from the next one on.
MAX_CONNECTIONS: Final = 64
BACKLOG: Final = 64

#: Seconds that a connection may be idle between two requests.
KEEP_ALIVE: Final = 15.0

#: Seconds between attempts to listen: the first, and the longest of those that follow, each twice
#: the one before.
RETRY_FIRST: Final = 1.0
RETRY_LONGEST: Final = 60.0

#: Seconds that running requests have to end on a stop.
SHUTDOWN: Final = 1.0

#: The tasks that answer without an end of their own; a stop cancels them.
STREAMS: Final = web.AppKey[set[asyncio.Task[object]]]("streams", set)

_HEADERS: Final = {
    "Server": "megaphone",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

#: Where an answer brings no policy of its own.
_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"

_logger = logs.get_logger("megaphone.http")


class HttpServer:
    """Listens, and tries again for as long as it cannot.

    Attributes:
        url: where it listens, or None.
        error: why it does not, or None.
    """

    def __init__(self, configuration: Http) -> None:
        self.url: str | None = None
        self.error: str | None = None
        self._configuration = configuration
        names = {"localhost", configuration.host.lower(), *configuration.allowed_hosts}
        self._application = web.Application(
            middlewares=[_only_known_hosts(frozenset(names)), _only_get], client_max_size=1024
        )
        self._application.on_response_prepare.append(_add_headers)
        self._application[STREAMS] = set()
        self._application.on_shutdown.append(_end_streams)

    def add_routes(self, routes: Iterable[web.RouteDef]) -> None:
        """Add routes; before `run` only."""
        self._application.add_routes(routes)

    async def run(self, started: Started) -> None:
        """Listen until cancelled; that it cannot yet is not for the supervisor."""
        started()
        runner = web.AppRunner(
            self._application,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEP_ALIVE,
            shutdown_timeout=SHUTDOWN,
        )
        await runner.setup()
        server: asyncio.Server | None = None
        try:
            server = await self._listening(runner)
            await asyncio.get_running_loop().create_future()
        finally:
            self.url = None
            # Not `async with server`: it would wait for connections that only cleanup() closes.
            if server is not None:
                server.close()
            await runner.cleanup()

    async def _listening(self, runner: web.AppRunner) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        host, port = self._configuration.host, self._configuration.port
        connections = _Connections(runner)
        wait = RETRY_FIRST
        while True:
            try:
                server = await loop.create_server(connections.accept, host, port, backlog=BACKLOG)
            # ValueError: a host that can be no name (it cannot be encoded, or holds a NUL).
            except (OSError, ValueError) as error:
                reason = (isinstance(error, OSError) and error.strerror) or error
                if self.error is None:
                    _logger.warning(
                        "cannot listen for HTTP; trying again, set http.host or http.port to "
                        "change it",
                        address=_authority(host, port),
                        reason=str(reason),
                    )
                self.error = f"{_authority(host, port)}: {reason}"
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_LONGEST)
            else:
                self.error = None
                self.url = f"http://{_authority(*server.sockets[0].getsockname()[:2])}"
                _logger.info("listening for HTTP", url=self.url)
                return server


class _Connections:
    """Bounds how many connections there are."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._server = runner.server

    def accept(self) -> asyncio.Protocol:
        assert self._server is not None  # noqa: S101 - the runner is set up before it listens
        open_ones = [one for one in self._server.connections if one.transport is not None]
        for oldest in open_ones[: max(0, len(open_ones) - MAX_CONNECTIONS + 1)]:
            transport = oldest.transport
            oldest.force_close()
            if transport is not None:
                # Closing would wait for a peer that does not read.
                transport.abort()
        return self._server()


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _only_known_hosts(names: frozenset[str]) -> Middleware:
    """Refuse requests for other names than ours.

    A page in a browser on this machine may have its own name resolve to 127.0.0.1 and read what is
    here as if it were its own (DNS rebinding). Its requests carry that name; an address, or no Host
    at all, cannot come about this way.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host")
        if host is not None and not _is_known(host, names):
            raise web.HTTPMisdirectedRequest(
                text="this name is not served here: see http.allowed_hosts\n"
            )
        return await handler(request)

    return middleware


def _is_known(host: str, names: frozenset[str]) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.lower() in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


@web.middleware
async def _only_get(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method != "GET":
        raise web.HTTPMethodNotAllowed(request.method, ["GET"])
    return await handler(request)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.setdefault("Content-Security-Policy", _POLICY)


async def _end_streams(application: web.Application) -> None:
    for task in application[STREAMS]:
        task.cancel()
