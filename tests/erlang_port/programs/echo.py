"""Echoes the node's calls, and calls the node: the port's two directions under load."""

import asyncio
import sys

from erlang_port import startup

startup.die_with_parent()
fds = startup.claim_port()

from erlang_port.transports.fds import PortConnection  # noqa: E402  # the port first

CALLS, SIZE, ASKED = map(int, sys.argv[1:])


async def main() -> None:
    connection = PortConnection(*fds, name="echo", version="1")
    seen = []
    enough = asyncio.Event()

    async def echo(request):
        seen.append(request)
        if len(seen) == ASKED:
            enough.set()
        return request

    connection.register("echo", echo)
    await connection.connect()
    payload = b"y" * SIZE

    async def ask(n):
        assert await connection.call("echo", (n, payload), 15) == (n, payload)

    for start in range(0, CALLS, 1000):
        await asyncio.gather(*(ask(n) for n in range(start, min(start + 1000, CALLS))))
    connection.cast("ask", (ASKED, SIZE))
    await enough.wait()
    # One turn more of the loop sends the answers.
    await asyncio.sleep(0)
    connection.cast("done", (connection.statistics().calls_waiting, len(seen)))
    await connection.closed()


asyncio.run(main())
