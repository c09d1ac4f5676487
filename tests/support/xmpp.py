"""A real XMPP client that collects what it gets."""

import asyncio
from collections.abc import Callable
from typing import Any

from slixmpp import ClientXMPP
from slixmpp.stanza import Message
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath


class Client:
    """One session on a private node: logged in, available, collecting messages.

    `messages` holds every message stanza in order of arrival, carbons and those without a body too.
    """

    def __init__(self, jid: str, password: str, port: int) -> None:
        self.messages: list[Message] = []
        self._port = port
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self.stream = ClientXMPP(
            jid,
            password,
            sasl_mech="PLAIN",
            plugin_config={"feature_mechanisms": {"unencrypted_plain": True}},
        )
        self.stream.enable_direct_tls = False
        self.stream.enable_starttls = False
        self.stream.enable_plaintext = True
        self.stream.auto_reconnect = False
        self.stream.register_plugin("xep_0030")
        self.stream.register_plugin("xep_0280")
        self.stream.register_handler(
            Callback("Collected", MatchXPath("{jabber:client}message"), self._collect)
        )
        self.stream.add_event_handler("disconnected", self._end)

    @property
    def jid(self) -> str:
        """The full JID that the server gave."""
        return str(self.stream.boundjid.full)

    @property
    def bodies(self) -> list[str]:
        """The bodies of the messages, the empty one of a message without a body too."""
        return [message["body"] for message in self.messages]

    @property
    def connected(self) -> bool:
        """Whether the stream is open."""
        return not self._ended.is_set()

    async def connect(self, timeout: float = 15.0, priority: int | None = None) -> None:
        """Logs in, sends presence and waits until the server has taken it.

        The server reflects a client's presence to the client itself (RFC 6121, 4.2.2).
        """
        loop = asyncio.get_running_loop()
        available = loop.create_future()

        def fail(reason: object) -> None:
            if not available.done():
                available.set_exception(ConnectionError(f"{self.stream.boundjid}: {reason!r}"))

        def start(_event: object) -> None:
            self.stream.send_presence(ppriority=priority)

        def reflected(presence: Any) -> None:
            if presence["from"] == self.stream.boundjid and not available.done():
                available.set_result(None)

        self.stream.add_event_handler("session_start", start)
        self.stream.add_event_handler("presence_available", reflected)
        for event in ("failed_all_auth", "connection_failed", "disconnected"):
            self.stream.add_event_handler(event, fail)
        try:
            async with asyncio.timeout(timeout):
                self.stream.connect("127.0.0.1", self._port)
                await available
        except BaseException:
            await self.disconnect()
            raise
        finally:
            for event in ("failed_all_auth", "connection_failed", "disconnected"):
                self.stream.del_event_handler(event, fail)

    async def enable_carbons(self) -> None:
        """Turns message carbons on (XEP-0280)."""
        await self.stream.plugin["xep_0280"].enable()

    async def ping(self, timeout: float = 10.0) -> None:
        """A round trip to the server: what it sent before has arrived after it."""
        query = self.stream.make_iq_get(
            queryxmlns="jabber:iq:roster", ito=self.stream.boundjid.bare
        )
        await query.send(timeout=timeout)

    async def wait_for(self, count: int, timeout: float = 10.0) -> list[Message]:
        """Waits until at least `count` messages have come; returns all of them."""
        await self.wait_until(lambda: len(self.messages) >= count, timeout)
        return self.messages

    async def wait_until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Waits until the condition holds; it is looked at again after each message."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError as error:
            raise AssertionError(
                f"{self.jid}: not within {timeout} s; came: {[str(m) for m in self.messages]}"
            ) from error

    async def wait_disconnected(self, timeout: float = 10.0) -> None:
        """Waits until the stream has ended, whoever ended it."""
        async with asyncio.timeout(timeout):
            await self._ended.wait()

    async def disconnect(self) -> None:
        """Ends the stream; that it has ended already is no error."""
        self.stream.cancel_connection_attempt()
        if self.stream.transport is not None:
            await self.stream.disconnect(wait=2.0)
            async with asyncio.timeout(5.0):
                await self._ended.wait()

    def _collect(self, message: Message) -> None:
        self.messages.append(message)
        self._changed.set()

    def _end(self, _reason: object) -> None:
        self._ended.set()
