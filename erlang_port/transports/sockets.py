"""Connecting to a node's socket: Unix or TCP, with or without TLS, then the handshake.

It waits, in a thread of its own and within one bound; what comes of it is a socket on which the
frames begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from erlang_port.handshake import MAX_MESSAGE, Accepted, HandshakeError
from erlang_port.transports.tls import TlsRelay

if TYPE_CHECKING:
    import ssl

    from erlang_port.handshake import Handshake

#: Seconds that connecting and the handshake may take together.
TIMEOUT: Final = 5.0

_HEADER: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node listens: `path`, or `host` and `port`.

    Attributes:
        tls: None without TLS.
        server_name: Whose certificate is wanted, `host` as a rule.
    """

    path: str | None = None
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


class Connected(NamedTuple):
    """A socket that belongs to its caller, on which frames begin, and what the node has told."""

    socket: socket.socket
    accepted: Accepted

    def shut_down(self) -> None:
        """End it for both sides, whoever waits for it; the descriptor stays."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


async def connect(endpoint: Endpoint, handshake: Handshake) -> Connected:
    """Connect, and shake hands.

    Raises:
        HandshakeError: The node refused.
        OSError: There is no connection; its text says why.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Connected] = loop.create_future()
    attempt = _Attempt(endpoint, handshake)

    def run() -> None:
        try:
            result: Connected | Exception = attempt.connect()
        except Exception as error:  # noqa: BLE001  # all of them are the waiting coroutine's
            result = error
        # Without a loop, which is closed by now, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, outcome, result)

    # Not the loop's executor: the program does not wait for it at its end.
    threading.Thread(target=run, name="connect", daemon=True).start()
    try:
        # The thread keeps the bound itself, but for the time that looking up a name takes.
        async with asyncio.timeout(TIMEOUT):
            return await outcome
    except (TimeoutError, asyncio.CancelledError) as error:
        attempt.give_up()
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"the node did not answer within {TIMEOUT:g} s") from None
        raise


def _settle(outcome: asyncio.Future[Connected], result: Connected | Exception) -> None:
    if outcome.cancelled():
        # Given up, and closed: see `_Attempt`.
        return
    if isinstance(result, Exception):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)


class _Attempt:
    """One attempt, in its thread; what comes of it after it was given up is closed."""

    def __init__(self, endpoint: Endpoint, handshake: Handshake) -> None:
        self._endpoint = endpoint
        self._handshake = handshake
        self._deadline = time.monotonic() + TIMEOUT
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._given_up = False
        self._connected: Connected | None = None

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            self._deadline = 0.0
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            if self._connected is not None:
                self._connected.socket.close()

    def connect(self) -> Connected:
        connected = self._connect()
        with self._lock:
            if self._given_up:
                connected.socket.close()
                raise TimeoutError("given up")
            self._connected = connected
        return connected

    def _connect(self) -> Connected:
        self._socket = stream = self._open()
        try:
            accepted = self._shake_hands(stream)
        except BaseException:
            stream.close()
            raise
        stream.settimeout(None)
        if self._endpoint.tls is not None:
            stream = TlsRelay.start(stream)  # type: ignore[arg-type]  # _open made it one of TLS
        return Connected(stream, accepted)

    def _open(self) -> socket.socket:
        endpoint = self._endpoint
        if endpoint.path is not None:
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                stream.settimeout(self._left())
                stream.connect(endpoint.path)
            except BaseException:
                stream.close()
                raise
            return stream
        try:
            stream = socket.create_connection((endpoint.host, endpoint.port), self._left())
        except UnicodeError:
            raise OSError(f"{endpoint.host!r} is no name of a host") from None
        try:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if endpoint.tls is not None:
                stream.settimeout(self._left())
                return _secured(stream, endpoint.tls, endpoint.server_name or endpoint.host)
        except BaseException:
            stream.close()
            raise
        return stream

    def _shake_hands(self, stream: socket.socket) -> Accepted:
        self._send(stream, self._handshake.open())
        self._send(stream, self._handshake.prove(self._receive(stream)))
        return self._handshake.accepted(self._receive(stream))

    def _send(self, stream: socket.socket, message: bytes) -> None:
        stream.settimeout(self._left())
        stream.sendall(_HEADER.pack(len(message)) + message)

    def _receive(self, stream: socket.socket) -> bytes:
        (size,) = _HEADER.unpack(self._exactly(stream, _HEADER.size))
        if not 0 < size <= MAX_MESSAGE:
            raise HandshakeError(
                "what answers speaks no handshake of a node's: is it the right port?"
            )
        return self._exactly(stream, size)

    def _exactly(self, stream: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            stream.settimeout(self._left())
            part = stream.recv(size - len(data))
            if not part:
                raise HandshakeError(
                    "the node closed the connection in the middle of the handshake"
                )
            data += part
        return data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the node did not answer within {TIMEOUT:g} s")
        return left


def _secured(stream: socket.socket, tls: ssl.SSLContext, name: str) -> socket.socket:
    try:
        # First: where wrap_socket finds out, it leaves the descriptor open.
        name.encode("idna")
    except UnicodeError:
        raise OSError(f"{name!r} is no name that a certificate can have") from None
    return tls.wrap_socket(stream, server_hostname=name)
