"""Casts from one process to another: seconds of processor time for so many."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from erlang_port.etf import Atom
from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, NoReply, Ok

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from erlang_port.otp.process import Process

#: What is cast, as a user of gen_server would: an atom.
_MESSAGE: Final = Atom("message")

#: Casts that the flooding process makes before it takes a message itself.
_BURST: Final = 1000


class _Returns(GenServer[int]):
    """Casts back whatever it gets, so many times."""

    other: Process

    def __init__(self, over: asyncio.Future[None]) -> None:
        self._over = over

    def init(self, args: int) -> Ok[int]:
        """See `GenServer.init`."""
        return Ok(args)

    def handle_cast(self, message: Any, state: int) -> NoReply[int]:  # noqa: ANN401  # any term
        """See `GenServer.handle_cast`."""
        if state == 0:
            self._over.set_result(None)
        else:
            gen_server.cast(self.other, message)
        return NoReply(state - 1)


class _Floods(GenServer[int]):
    """Casts to another, in bursts, so many times."""

    other: Process
    own: Process

    def init(self, args: int) -> Ok[int]:
        """See `GenServer.init`."""
        return Ok(args)

    def handle_cast(self, message: Any, state: int) -> NoReply[int]:  # noqa: ANN401  # any term
        """See `GenServer.handle_cast`."""
        other = self.other
        for _ in range(min(_BURST, state)):
            gen_server.cast(other, message)
        if state > _BURST:
            gen_server.cast(self.own, message)
        return NoReply(state - _BURST)


class _Counts(GenServer[int]):
    """Counts down what it gets."""

    def __init__(self, over: asyncio.Future[None]) -> None:
        self._over = over

    def init(self, args: int) -> Ok[int]:
        """See `GenServer.init`."""
        return Ok(args)

    def handle_cast(self, message: Any, state: int) -> NoReply[int]:  # noqa: ANN401, ARG002  # any term
        """See `GenServer.handle_cast`."""
        if state == 1:
            self._over.set_result(None)
        return NoReply(state - 1)


async def _started(module: GenServer[Any], args: int) -> Process:
    process = await gen_server.start(module, args)
    if process is None:
        raise RuntimeError("the server does not start")
    return process


async def servers_in_turn(count: int) -> float:
    """Two servers, one cast in flight."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left, right = _Returns(over), _Returns(over)
    right.other = await _started(left, count // 2)
    left.other = await _started(right, count // 2)
    begin = time.process_time()
    gen_server.cast(right.other, _MESSAGE)
    await over
    taken = time.process_time() - begin
    await gen_server.stop(left.other)
    await gen_server.stop(right.other)
    return taken


async def servers_flooded(count: int) -> float:
    """One server casts to another as fast as it can, until all are taken."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    source = _Floods()
    source.other = await _started(_Counts(over), count)
    source.own = await _started(source, count)
    begin = time.process_time()
    gen_server.cast(source.own, _MESSAGE)
    await over
    taken = time.process_time() - begin
    await gen_server.stop(source.other)
    await gen_server.stop(source.own)
    return taken


async def queues_in_turn(count: int) -> float:
    """Two tasks with a queue each, one message in flight."""
    left: asyncio.Queue[object] = asyncio.Queue()
    right: asyncio.Queue[object] = asyncio.Queue()

    async def returns(own: asyncio.Queue[object], other: asyncio.Queue[object]) -> None:
        for _ in range(count // 2):
            other.put_nowait(await own.get())

    begin = time.process_time()
    left.put_nowait(_MESSAGE)
    await asyncio.gather(returns(left, right), returns(right, left))
    return time.process_time() - begin


async def queues_flooded(count: int) -> float:
    """A task that puts into a queue as fast as it can, and one that takes."""
    queue: asyncio.Queue[object] = asyncio.Queue()

    async def floods() -> None:
        for start in range(0, count, _BURST):
            for _ in range(min(_BURST, count - start)):
                queue.put_nowait(_MESSAGE)
            await asyncio.sleep(0)

    async def counts() -> None:
        for _ in range(count):
            await queue.get()

    begin = time.process_time()
    await asyncio.gather(floods(), counts())
    return time.process_time() - begin


#: By kind of process and by measure.
WORK: Final[dict[str, dict[str, Callable[[int], Coroutine[Any, Any, float]]]]] = {
    "GenServer": {"one in flight": servers_in_turn, "flooded": servers_flooded},
    "task and queue": {"one in flight": queues_in_turn, "flooded": queues_flooded},
}
