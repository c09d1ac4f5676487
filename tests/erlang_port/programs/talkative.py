"""Logs in finalisers while casts are under way."""

import asyncio
import gc
import sys

from erlang_port import startup

startup.die_with_parent()
fds = startup.claim_port()

from erlang_port.transports.fds import PortConnection  # noqa: E402  # the port first

COUNT = int(sys.argv[1])


class Talkative:
    """Refers to itself, so that only the garbage collector ends it, and logs when that comes."""

    def __init__(self, log) -> None:
        self.itself = self
        self.log = log

    def __del__(self) -> None:
        self.log("warning", "finaliser", "last words")


async def main() -> None:
    connection = PortConnection(name="talkative", version="1")
    await connection.connect(*fds)
    for n in range(COUNT):
        # It is collected a few allocations later: for some of these in the middle of the cast,
        # which has the protocol's lock.
        gc.set_threshold(2 + n % 50)
        Talkative(connection.log)
        connection.cast("n", n)
    gc.collect()
    connection.cast("done", {b"dropped": connection.statistics().logs_dropped})
    # Not before the VM has read it all.
    await connection.closed()


asyncio.run(main())
