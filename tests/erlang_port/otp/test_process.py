"""Processes: mailboxes, signals, and coroutines that come to nothing."""

import asyncio
import gc
from itertools import pairwise
from sys import exit as sys_exit

import pytest

from erlang_port.etf import Atom
from erlang_port.otp import gen_server, sys
from erlang_port.otp.gen_server import GenServer, NoReply, Ok
from erlang_port.otp.process import NOTHING, discard
from erlang_port.otp.reasons import KILLED, NORMAL, Exit
from erlang_port.otp.runtime import Runtime, self


async def end_of(process):
    """Waits for its end; the reason."""
    ended = asyncio.get_running_loop().create_future()

    async def watch():
        self().monitor(process)
        await self().receive()
        ended.set_result(process.exit_reason)

    Runtime.here().spawn(watch)
    async with asyncio.timeout(5):
        return await ended


@pytest.fixture
def spawn():
    def spawn(body, **options):
        return Runtime.here().spawn(body, **options)

    return spawn


async def test_who_waits_for_a_message_is_woken(spawn):
    got = []

    async def body():
        got.append(await self().receive())
        got.append(await self().receive(5))

    process = spawn(body)
    await asyncio.sleep(0)
    process.send(1)
    await asyncio.sleep(0)
    process.send(2)
    await end_of(process)
    assert got == [1, 2]


async def test_a_message_that_does_not_come(spawn):
    async def body():
        with pytest.raises(TimeoutError):
            await self().receive(0)
        raise Exit(Atom("waited"))

    assert await end_of(spawn(body)) == "waited"


async def test_messages_to_the_ended_are_lost(spawn):
    async def body():
        pass

    process = spawn(body)
    assert await end_of(process) == NORMAL
    process.send(1)
    process.exit("broken")
    assert not process.mailbox
    assert process.exit_reason == NORMAL


async def test_the_ended_neither_link_nor_monitor(spawn):
    async def waits():
        await self().receive()

    async def body():
        me = self()
        me.exit("broken")
        me.link(other)
        me.monitor(other)

    other = spawn(waits)
    assert await end_of(spawn(body)) == "broken"
    assert not other.links
    assert not other._watchers
    other.exit("kill")


async def test_a_long_chain_of_links_ends(spawn):
    async def body():
        await self().receive()

    chain = [spawn(body) for _ in range(5000)]
    for one, next_one in pairwise(chain):
        one.link(next_one)
    chain[0].exit("broken")
    assert {process.exit_reason for process in chain} == {"broken"}
    assert not Runtime.here().processes


async def test_a_ring_of_links_ends(spawn):
    async def body():
        await self().receive()

    ring = [spawn(body) for _ in range(3)]
    for at, process in enumerate(ring):
        process.link(ring[at - 1])
    ring[1].exit("kill")
    assert [process.exit_reason for process in ring] == [KILLED] * 3


@pytest.mark.parametrize("reason", ["kill", "broken"])
async def test_who_is_ended_before_its_coroutine_begins_leaves_none_behind(reason):
    begun = []

    class Slow(GenServer[int]):
        def init(self, _args):
            return Ok(0)

        async def handle_cast(self, message, state):
            begun.append(message)
            return NoReply(state)

    server = await gen_server.start(Slow)
    gen_server.cast(server, 1)
    # Its turn comes first, and makes a task; the task's first step comes after this.
    asyncio.get_running_loop().call_soon(server.exit, reason)
    assert await end_of(server) == {"kill": KILLED}.get(reason, reason)
    await asyncio.sleep(0)
    gc.collect()
    assert not begun


async def test_discarded_coroutines_take_theirs_along():
    async def inner():
        raise AssertionError

    async def outer(awaited):
        await awaited

    discard(outer(outer(inner())))
    gc.collect()


async def test_who_is_idle_has_no_mailbox_of_its_own():
    class Counter(GenServer[int]):
        def init(self, _args):
            return Ok(0)

        def handle_cast(self, message, state):
            return NoReply(state + message)

    class Slow(Counter):
        async def handle_cast(self, message, state):
            await asyncio.sleep(0)
            return NoReply(state + message)

    for module in (Counter, Slow):
        server = await gen_server.start(module)
        assert server.mailbox is NOTHING
        for _ in range(3):
            gen_server.cast(server, 1)
        assert len(server.mailbox) == 3
        assert await sys.get_state(server) == 3
        await asyncio.sleep(0)
        assert server.mailbox is NOTHING
        server.exit("kill")
    assert not NOTHING


def cancelled():
    """A future that gives `CancelledError` to who asks."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


FAILURES = {
    "CancelledError": lambda: cancelled().result(),
    "SystemExit": lambda: sys_exit("on purpose"),
    "ValueError": lambda: int("on purpose"),
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_whatever_a_message_raises_is_the_end_of_its_process_only(kind):
    class Failing(GenServer[None]):
        def init(self, _args):
            return Ok(None)

        def handle_cast(self, message, state):
            FAILURES[message]()
            return NoReply(state)

    failing, other = await gen_server.start(Failing), await gen_server.start(Failing)
    gen_server.cast(failing, kind)
    gen_server.cast(other, kind)
    for process in (failing, other):
        (tag, name, _), _ = await end_of(process)
        assert (tag, name) == ("python_error", kind.encode())


@pytest.mark.parametrize("kind", FAILURES)
async def test_whatever_a_coroutine_raises_is_the_end_of_its_process_only(spawn, kind):
    async def body():
        await asyncio.sleep(0)
        FAILURES[kind]()

    async def waits():
        await cancelled()

    (tag, name, _), _ = await end_of(spawn(body))
    assert (tag, name) == ("python_error", kind.encode())
    (tag, name, _), _ = await end_of(spawn(waits))
    assert (tag, name) == ("python_error", b"CancelledError")


async def test_what_is_put_back_comes_first(spawn):
    got = []

    async def body():
        self().put_back([1, 2])
        self().send(3)
        got.extend([await self().receive() for _ in range(3)])

    await end_of(spawn(body))
    assert got == [1, 2, 3]


async def test_a_loop_that_is_taken_down_takes_its_processes(spawn):
    async def body():
        await self().receive()

    process = spawn(body)
    await asyncio.sleep(0)
    process._task.cancel()
    assert await end_of(process) == KILLED
