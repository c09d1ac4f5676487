"""Echoes the node's calls, and calls the node: the port's two directions under load.

Exit status 3 when the connection is over.
"""

import asyncio
import sys

from erlang_port import startup

startup.die_with_parent()
fds = startup.claim_port()

from erlang_port.transports.fds import PortConnection  # noqa: E402  # the port first

CALLS, SIZE, ASKED = map(int, sys.argv[1:])


async def main() -> None:
    connection = PortConnection(name="echo", version="1")
    seen = []
    enough = asyncio.Event()

    async def echo(request):
        seen.append(request)
        if len(seen) == ASKED:
            enough.set()
        return request

    connection.register("echo", echo)
    await connection.connect(*fds)
    payload = b"y" * SIZE

    async def ask(n):
        assert await connection.call("echo", (n, payload), 15) == (n, payload)

    queued = 0
    for start in range(0, CALLS, 1000):
        asking = [asyncio.ensure_future(ask(n)) for n in range(start, min(start + 1000, CALLS))]
        # One turn of the loop: all of them are asked now.
        await asyncio.sleep(0)
        queued = max(queued, connection.statistics().queued)
        await asyncio.gather(*asking)
    connection.cast("ask", (ASKED, SIZE))
    over = asyncio.ensure_future(connection.closed())
    waiting = asyncio.ensure_future(enough.wait())
    await asyncio.wait({over, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if over.done():
        sys.exit(3)
    # One turn more of the loop sends the answers.
    await asyncio.sleep(0)
    figures = connection.statistics()
    connection.cast(
        "done",
        {
            b"waiting": figures.calls_waiting,
            b"discarded": figures.discarded,
            b"queued": queued,
            b"seen": len(seen),
        },
    )
    await over


asyncio.run(main())
