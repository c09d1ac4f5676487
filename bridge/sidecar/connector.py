"""The sidecar's connection to its node: made, waited with, used, and made anew.

connecting ──handshake──▶ standing by ──hello──▶ active
    ▲ waits, longer each time   │ end             │ end: what the node asked for is forgotten,
    └───────────────────────────┴─────────────────┘      for it asks another one
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from bridge import logs
from erlang_port.handshake import Handshake, SecretError, WrongSecret, read_secret
from erlang_port.transports import sockets
from erlang_port.transports.fds import Disconnected, Liveness
from erlang_port.transports.sockets import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bridge.config import Sidecar
    from bridge.sidecar.state import State
    from erlang_port.otp.coroutine_child import Started
    from erlang_port.protocol import Peer
    from erlang_port.transports.fds import PortConnection
    from erlang_port.transports.sockets import Connected

#: Seconds between two attempts: the first wait, and the longest of those that follow, each twice
#: the one before. Each is drawn between half of it and the whole, so that many do not come at once.
RETRY_FIRST: Final = 0.2
RETRY_LONGEST: Final = 10.0
#: Seconds of connection after which the first wait is the first again.
GOOD_LIFE: Final = 10.0

#: Seconds after which a secret that the node has refused is tried again, and between two looks
#: whether the file holds another one.
SECRET_RETRY: Final = 60.0
SECRET_LOOK: Final = 1.0

_logger = logs.get_logger("megaphone.sidecar")

Condition = Literal["connecting", "standby", "active"]


class Attachment(Protocol):
    """What goes on while this sidecar is the active one."""

    async def attached(self, peer: Peer) -> None:
        """The connection is there."""

    async def detached(self) -> None:
        """It is gone, and whatever was asked over it with it."""


class Waits:
    """How long to wait before the next attempt.

    Args:
        draw: Gives a number between two others.
    """

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._next = RETRY_FIRST

    def after(self, lived: float) -> float:
        """Give the seconds to wait after an attempt, or a connection, of so many."""
        wait = RETRY_FIRST if lived > GOOD_LIFE else self._next
        self._next = min(2 * wait, RETRY_LONGEST)
        return wait * self._draw(0.5, 1.0)


class Connector:
    """Keeps the connection.

    Args:
        settings: Where to, and with which secret.
        state: What is kept.
        port: The connection itself.
        tell: Takes one line for whoever supervises the process.

    Attributes:
        condition: How far it is.
        error: Why there is no connection, or None.
    """

    def __init__(
        self, settings: Sidecar, state: State, port: PortConnection, tell: Callable[[str], None]
    ) -> None:
        self.condition: Condition = "connecting"
        self.error: str | None = "the first attempt has not ended"
        self._settings = settings
        self._state = state
        self._port = port
        self._tell = tell
        self._where = _where(settings)
        self._told: str | None = None
        self._secret = b""

    async def keep(self, attachment: Attachment, started: Started) -> None:
        """Connect, and again whenever that ends, until cancelled."""
        started()
        waits = Waits()
        while True:
            begun = time.monotonic()
            try:
                await self._live(attachment)
            except (OSError, SecretError, ssl.SSLError) as error:
                self._lost(error)
                if isinstance(error, WrongSecret):
                    await self._another_secret()
            await asyncio.sleep(waits.after(time.monotonic() - begun))

    async def _another_secret(self) -> None:
        """Wait until the file holds another secret; the node's own may change, too.

        Who says a wrong one again and again is locked out, and others with him.
        """
        refused = self._secret
        until = time.monotonic() + SECRET_RETRY
        while time.monotonic() < until:
            await asyncio.sleep(SECRET_LOOK)
            with contextlib.suppress(SecretError):
                if await asyncio.to_thread(_secret, self._settings) != refused:
                    return

    async def _live(self, attachment: Attachment) -> None:
        connected = await self._connect()
        try:
            liveness = Liveness(*connected.accepted)
            self._is("standby", f"standing by at {self._where}")
            fd = connected.socket.fileno()
            try:
                peer = await self._port.stand_by(fd, liveness, self._state.epoch)
                reason = await self._active(attachment, peer)
            except Exception:
                # Its turn may have begun, and ended at once: what came with it is forgotten, too.
                await attachment.detached()
                raise
            # Not when this is cancelled: who stops the whole tree then waits for this child.
            self._lost(Disconnected(reason))
            # The next one's turn begins now, and not when everything here has ended.
            connected.shut_down()
            await attachment.detached()
            raise Disconnected(reason)
        finally:
            await asyncio.shield(self._close(connected))

    async def _connect(self) -> Connected:
        self._secret = secret = await asyncio.to_thread(_secret, self._settings)
        endpoint = _endpoint(self._settings, await asyncio.to_thread(_tls, self._settings))
        state = self._state
        handshake = Handshake(secret, state.identity, state.instance, state.epoch)
        return await sockets.connect(endpoint, handshake)

    async def _active(self, attachment: Attachment, peer: Peer) -> str:
        """Have its turn; why it is over."""
        assert peer.epoch is not None  # noqa: S101  # a hello without one is an error of the protocol
        await asyncio.to_thread(self._state.saw, peer.epoch)
        if self._state.error is not None:
            _logger.error("the epoch cannot be kept", epoch=peer.epoch, reason=self._state.error)
        self._is("active", f"connected to {peer.name}, epoch {peer.epoch}")
        await attachment.attached(peer)
        return await self._port.closed()

    async def _close(self, connected: Connected) -> None:
        # In this order: what is queued goes out, then whoever waits for the socket is woken, and
        # nobody has the descriptor any more when it is closed.
        await self._port.close("the connection is closed")
        connected.shut_down()
        if await self._port.close():
            connected.socket.close()
        else:
            # Busy as the machine is: left open, for a thread would write to whoever has its number.
            connected.socket.detach()

    def _is(self, condition: Condition, text: str) -> None:
        self.condition, self.error, self._told = condition, None, None
        _logger.info(text, identity=self._state.identity)
        self._tell(text)

    def _lost(self, error: Exception) -> None:
        self.condition = "connecting"
        self.error = text = _text(error)
        if text != self._told:
            self._told = text
            _logger.warning("not connected; trying again", node=self._where, reason=text)
            self._tell(f"not connected to {self._where}: {text}")

    # What others are told.

    def reasons(self) -> list[str]:
        """Say why this sidecar could not take over, a line each; nothing when it could, or has."""
        state = self._state.error
        return [
            *([f"node: not connected to {self._where}: {self.error}"] if self.error else []),
            *([f"state: {state}"] if state else []),
        ]

    def status(self) -> dict[str, Any]:
        """Give its part of the status, see docs/protocol.md."""
        return {
            "identity": self._state.identity,
            "state": self.condition,
            "node": self._where,
            "epoch": self._state.epoch,
            "error": self.error or self._state.error,
        }


def check(settings: Sidecar) -> None:
    """Look at the files that a connection needs.

    Raises:
        SecretError: There is no secret.
        OSError: A certificate, or the authorities', cannot be used.
    """
    _secret(settings)
    _tls(settings)


def _where(settings: Sidecar) -> str:
    if settings.socket is not None:
        return f"unix:{settings.socket}"
    host = settings.host or ""
    authority = f"[{host}]" if ":" in host else host
    return f"{'tls' if settings.tls else 'tcp'}://{authority}:{settings.port}"


def _endpoint(settings: Sidecar, tls: ssl.SSLContext | None) -> Endpoint:
    if settings.socket is not None:
        return Endpoint(path=str(settings.socket))
    host, port = settings.host or "", settings.port
    return Endpoint(host=host, port=port, tls=tls, server_name=settings.server_name)


def _secret(settings: Sidecar) -> bytes:
    if settings.secret_file is None:
        raise SecretError("sidecar.secret_file is not set")
    return read_secret(settings.secret_file)


def _tls(settings: Sidecar) -> ssl.SSLContext | None:
    if not settings.tls or settings.socket is not None:
        return None
    with _naming("ca_file", settings.ca_file):
        context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.certificate_file is not None:
        with _naming("certificate_file", settings.certificate_file):
            # No password: nobody is there to be asked for one.
            context.load_cert_chain(settings.certificate_file, password="")
    return context


@contextlib.contextmanager
def _naming(key: str, file: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise OSError(f"sidecar.{key}: {file}: {why}") from None


def _text(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the node's certificate: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, Disconnected):
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
