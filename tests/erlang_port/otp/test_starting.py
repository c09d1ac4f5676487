"""How all behaviours start: the link, the name, the time, and what is left of one that failed."""

import asyncio

import pytest

from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, Ok, StartError
from erlang_port.otp.runtime import Runtime, self
from tests.erlang_port.otp.test_process import end_of


class Plain(GenServer[None]):
    def init(self, args):
        if args is not None:
            raise gen_server.Exit(args)
        return Ok(None)


async def in_process(body, **options):
    """Runs a body in a process of its own; the process."""
    process = Runtime.here().spawn(body, **options)
    await end_of(process)
    return process


async def test_a_start_that_fails_signals_nobody():
    async def body():
        for trap_exit in (True, False):
            self().trap_exit = trap_exit
            with pytest.raises(StartError, match="broken"):
                await gen_server.start_link(Plain, "broken")
        assert not self().links
        assert not self().mailbox

    assert (await in_process(body)).exit_reason == "normal"


async def test_a_start_that_fails_is_its_starters_end_unless_it_is_caught():
    async def body():
        await gen_server.start_link(Plain, "broken")

    assert (await in_process(body)).exit_reason == "broken"


async def test_a_link_there_and_back():
    started = []

    async def body():
        started.append(await gen_server.start_link(Plain))
        assert self().links == {started[0]}
        assert started[0].links == {self()}
        assert started[0].parent is self()

    assert (await in_process(body)).exit_reason == "normal"
    # Who ended was its parent, normally.
    assert started[0].alive
    assert not started[0].links
    started[0].exit("kill")


async def test_a_class_that_cannot_be_made_an_object_leaves_no_name():
    class Broken(Plain):
        def __init__(self):
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await gen_server.start(Broken, name="plain")
    assert not Runtime.here().processes
    await gen_server.stop(await gen_server.start(Plain, name="plain"))


async def test_an_init_that_takes_too_long():
    class Slow(GenServer[None]):
        async def init(self, _args):
            await asyncio.Event().wait()

    with pytest.raises(StartError, match="timeout"):
        await gen_server.start(Slow, name="slow", timeout=0.001)
    assert Runtime.here().whereis("slow") is None
    assert not Runtime.here().processes
