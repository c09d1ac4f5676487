"""The XMPP clients of the demo, on slixmpp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from slixmpp import JID, ClientXMPP

from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from slixmpp.stanza import Message, Presence

#: Seconds that a login on loopback may take.
LOGIN_TIMEOUT: Final = 20.0

#: Seconds that a stream may take to end.
LOGOUT_TIMEOUT: Final = 3.0

#: Messages that one client keeps; what comes beyond them is not shown.
INBOX: Final = 1000


class DemoClient:
    """One session on the private node, available, keeping the bodies that arrive."""

    def __init__(self, jid: str, password: str, port: int) -> None:
        self._port = port
        self._bodies: asyncio.Queue[str] = asyncio.Queue(INBOX)
        self._stream = ClientXMPP(
            jid,
            password,
            sasl_mech="PLAIN",
            plugin_config={"feature_mechanisms": {"unencrypted_plain": True}},
        )
        # The private node listens on loopback only and has no certificate.
        self._stream.enable_direct_tls = False
        self._stream.enable_starttls = False
        self._stream.enable_plaintext = True
        self._stream.add_event_handler("message", self._keep)
        self._available: asyncio.Future[None] | None = None
        self._stream.add_event_handler("session_start", lambda _: self._stream.send_presence())
        self._stream.add_event_handler("presence_available", self._reflected)
        for event in ("failed_all_auth", "connection_failed", "disconnected"):
            self._stream.add_event_handler(event, self._failed)

    @property
    def jid(self) -> str:
        """The bare JID."""
        return str(self._stream.boundjid.bare)

    async def connect(self) -> None:
        """Logs in and waits until the server has reflected the presence (RFC 6121, 4.2.2).

        It may be done again after `disconnect`.

        Raises:
            CommandError: TIMEOUT or FAILURE.
        """
        self._available = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                self._stream.connect("127.0.0.1", self._port)
                await self._available
        except TimeoutError as error:
            raise CommandError(
                f"{self.jid} was not online within {LOGIN_TIMEOUT:.0f} s",
                "see whether the machine is busy, then try again",
                ExitStatus.TIMEOUT,
            ) from error

    def send(self, to: str, body: str) -> None:
        """Sends a chat message; it is on its way when this returns, not more."""
        self._stream.send_message(mto=JID(to), mbody=body, mtype="chat")

    async def next_body(self) -> str:
        """Waits for the next message and returns its body."""
        return await self._bodies.get()

    async def disconnect(self) -> None:
        """Ends the stream; that it has ended already is no error."""
        self._stream.cancel_connection_attempt()
        if self._stream.transport is None:
            return
        try:
            async with asyncio.timeout(LOGOUT_TIMEOUT):
                await self._stream.disconnect(wait=LOGOUT_TIMEOUT / 2)
        except TimeoutError:
            self._stream.abort()

    def _reflected(self, presence: Presence) -> None:
        mine = presence["from"] == self._stream.boundjid
        if mine and self._available is not None and not self._available.done():
            self._available.set_result(None)

    def _failed(self, reason: object) -> None:
        if self._available is not None and not self._available.done():
            self._available.set_exception(CommandError(f"{self.jid} could not log in: {reason}"))

    def _keep(self, message: Message) -> None:
        if message["body"] and not self._bodies.full():
            self._bodies.put_nowait(str(message["body"]))
