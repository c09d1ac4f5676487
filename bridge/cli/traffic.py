"""Life on a private node: people who log in, chat and log out, and a broadcast now and then."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Final

from bridge.attach.ejabberdctl import Ejabberdctl
from bridge.cli.broadcast import submit
from bridge.cli.demo_client import DemoClient
from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from bridge.embedded_node import EmbeddedNode

#: How many people there are; about two of three are online at a time.
PEOPLE: Final = 36
ONLINE: Final = 24

#: Seconds between two logins or logouts, between two messages, between two broadcasts.
COMING_AND_GOING: Final = 0.4
CHATTING: Final = 0.05
BROADCASTING: Final = 15.0

TEXT: Final = "Hello {{ user }}, it is {{ ['early', 'late'] | random }} on {{ server }}."

#: Logins that may fail one after the other; the machine may be busy.
_FAILURES: Final = 5


class Traffic:
    """The people, and what they do until `run` is cancelled."""

    def __init__(self, node: EmbeddedNode) -> None:
        self._node = node
        self._names = [f"user{number}" for number in range(1, PEOPLE + 1)]
        self._clients: dict[str, DemoClient] = {}
        self._online: set[str] = set()
        self._failures = 0

    async def run(self) -> None:
        """Goes on until it is cancelled, and logs everybody out then.

        Raises:
            CommandError: Nobody can log in any more, or a broadcast was refused.
        """
        parts = [
            asyncio.ensure_future(part)
            for part in (self._come_and_go(), self._chat(), self._broadcast())
        ]
        try:
            await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await asyncio.gather(*(client.disconnect() for client in self._clients.values()))

    async def _come_and_go(self) -> None:
        while True:
            few = len(self._online) < ONLINE
            away = [name for name in self._names if name not in self._online]
            # More come than go while few are there, and the other way round.
            if away and random.random() < (0.7 if few else 0.3):  # noqa: S311 - no secret
                await self._log_in(random.choice(away))  # noqa: S311
            elif self._online:
                name = random.choice(tuple(self._online))  # noqa: S311
                self._online.remove(name)
                await self._clients[name].disconnect()
            if len(self._online) >= ONLINE // 2:
                await asyncio.sleep(COMING_AND_GOING)

    async def _log_in(self, name: str) -> None:
        client = self._clients.get(name)
        try:
            if client is None:
                account = await asyncio.to_thread(self._node.register, name)
                client = DemoClient(account, self._node.PASSWORD, self._node.c2s_port)
                self._clients[name] = client
            await client.connect()
        except CommandError as error:
            if client is not None:
                await client.disconnect()
            self._failures += 1
            if self._failures >= _FAILURES:
                raise CommandError(
                    f"{self._failures} logins in a row failed: {error.what}",
                    f"the node's log: {self._node.log_path}",
                    ExitStatus.FAILURE,
                ) from error
        else:
            self._failures = 0
            self._online.add(name)

    async def _chat(self) -> None:
        for number in itertools.count(1):
            if self._online:
                name = random.choice(tuple(self._online))  # noqa: S311
                # Whoever is away gets it later: it is stored.
                to = random.choice(tuple(self._clients.values()))  # noqa: S311
                self._clients[name].send(to.jid, f"message {number}")
            await asyncio.sleep(CHATTING)

    async def _broadcast(self) -> None:
        ctl = Ejabberdctl.find(str(self._node.ejabberdctl))
        while True:
            if self._online:
                await asyncio.to_thread(submit, ctl, {"template": TEXT, "to": "online"})
                await asyncio.sleep(BROADCASTING)
            await asyncio.sleep(COMING_AND_GOING)
