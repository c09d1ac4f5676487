"""Real clients over TCP that log in, say that they are available, and stay.

    python -m bench.capacity.clients PORT HOST PASSWORD

Reads from stdin, a line each, how many there are to be; user1, user2, ... log in, and it writes the
number back once they are all available. Ends with its input. They speak as little of XMPP as a
client must (RFC 6120, RFC 6121): thousands of them share this one process and cost the node what
any client costs.
"""

from __future__ import annotations

import asyncio
import base64
import resource
import sys
from typing import Final

#: Clients that log in at the same time.
AT_ONCE: Final = 50
#: Seconds for one client to be available.
LOGIN_TIMEOUT: Final = 60.0


class Client:
    """One session."""

    def __init__(self, user: str, host: str, password: str) -> None:
        self._user = user
        self._host = host
        self._credentials = base64.b64encode(f"\0{user}\0{password}".encode()).decode()

    async def log_in(self, port: int) -> None:
        """Becomes available.

        Raises:
            ConnectionError: The server refused or closed.
            TimeoutError: It did not answer in time.
        """
        async with asyncio.timeout(LOGIN_TIMEOUT):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
            await self._stream()
            await self._ask(
                f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
                f"{self._credentials}</auth>",
                b"<success",
            )
            await self._stream()
            await self._ask(
                "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
                "<resource>bench</resource></bind></iq>",
                b"<jid>",
            )
            # The server sends the presence back to who is available (RFC 6121, 4.2.2).
            await self._ask("<presence/>", b"<presence")

    async def stay(self) -> None:
        """Reads what comes until the server closes the stream."""
        while await self._reader.read(4096):
            pass

    async def _stream(self) -> None:
        await self._ask(
            f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
            f" version='1.0' to='{self._host}'>",
            b"</stream:features>",
        )

    async def _ask(self, text: str, wanted: bytes) -> None:
        self._writer.write(text.encode())
        seen = b""
        while wanted not in seen:
            data = await self._reader.read(4096)
            if not data:
                raise ConnectionError(f"{self._user}: the server closed after {seen[-200:]!r}")
            seen += data


async def main(port: int, host: str, password: str) -> None:
    """Serves the lines of stdin."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    staying: list[asyncio.Task[None]] = []
    room = asyncio.Semaphore(AT_ONCE)

    async def log_in(number: int) -> None:
        async with room:
            client = Client(f"user{number}", host, password)
            await client.log_in(port)
        staying.append(asyncio.create_task(client.stay()))

    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = int(line)
        async with asyncio.TaskGroup() as group:
            for number in range(len(staying) + 1, wanted + 1):
                group.create_task(log_in(number))
        if any(task.done() for task in staying):
            raise ConnectionError("the server closed a stream")
        sys.stdout.write(f"{wanted}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
