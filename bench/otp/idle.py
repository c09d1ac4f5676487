"""Starts idle GenServers, or tasks that wait at queues, and prints the memory that they take.

python -m bench.otp.idle (servers | queues) COUNT
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, NoReply, Ok
from metrics.program import resident_memory


class Idle(GenServer[None]):
    """Waits for casts that never come."""

    def init(self, args: Any) -> Ok[None]:  # noqa: ANN401, ARG002  # OTP's callback
        """See `GenServer.init`."""
        return Ok(None)

    def handle_cast(self, message: Any, state: None) -> NoReply[None]:  # noqa: ANN401, ARG002
        """See `GenServer.handle_cast`."""
        return NoReply(state)


async def _servers(count: int) -> int:
    # One first: what is imported and made once is not counted.
    kept = [await gen_server.start(Idle)]
    before = _resident()
    for _ in range(count):
        kept.append(await gen_server.start(Idle))  # noqa: PERF401  # a list that grows, as a user's
    return _resident() - before


async def _queues(count: int) -> int:
    async def wait() -> None:
        await asyncio.Queue[object]().get()

    kept = [asyncio.create_task(wait())]
    await asyncio.sleep(0)
    before = _resident()
    kept += [asyncio.create_task(wait()) for _ in range(count)]
    # Once round the loop: now each has come to its queue.
    await asyncio.sleep(0)
    taken = _resident() - before
    for task in kept:
        task.cancel()
    await asyncio.gather(*kept, return_exceptions=True)
    return taken


def _resident() -> int:
    gc.collect()
    return resident_memory()


if __name__ == "__main__":
    kinds = {"servers": _servers, "queues": _queues}
    sys.stdout.write(f"{asyncio.run(kinds[sys.argv[1]](int(sys.argv[2])))}\n")
