"""System messages: statistics, logs and traces, which show no text of anybody's."""

import asyncio
import logging

import pytest

from erlang_port.otp import gen_server, gen_statem, sys
from erlang_port.otp.gen_server import Exit, GenServer, NoReply, Ok
from erlang_port.otp.gen_statem import GenStatem


class Sink(GenServer[int]):
    def __init__(self):
        self.timed_out = asyncio.Event()

    def init(self, _args):
        return Ok(0)

    def handle_cast(self, message, state):
        return NoReply(state + 1, message)

    def handle_info(self, info, state):
        if info == "timeout":
            self.timed_out.set()
        return NoReply(state)


@pytest.fixture
def module():
    return Sink()


@pytest.fixture
async def sink(module):
    return await gen_server.start(module, name="sink")


async def test_trace_shows_kinds_only(sink, caplog):
    caplog.set_level(logging.INFO)
    await sys.trace(sink, True)
    gen_server.cast(sink, None)
    sink.send(("hello", "Juliet's secret"))
    sink.send(b"secret")
    await sys.trace(sink, False)
    gen_server.cast(sink, None)
    await sys.get_state(sink)
    assert [record.getMessage() for record in caplog.records] == [
        "*DBG* sink got a cast",
        "*DBG* sink got {hello, ..}",
        "*DBG* sink got a message",
    ]


async def test_log(sink):
    assert await sys.debug(sink, ("log", "get")) == ("ok", [])
    await sys.debug(sink, ("log", True))
    for _ in range(sys.LOG_SIZE + 1):
        gen_server.cast(sink, None)
    ok, messages = await sys.debug(sink, ("log", "get"))
    assert (ok, messages) == ("ok", [("in", ("$gen_cast", None))] * sys.LOG_SIZE)
    await sys.debug(sink, ("log", (True, 2)))
    assert len((await sys.debug(sink, ("log", "get")))[1]) == 2
    await sys.debug(sink, "no_debug")
    assert await sys.debug(sink, ("log", "get")) == ("ok", [])


async def test_a_timeout_is_logged_as_a_term(sink, module):
    await sys.debug(sink, ("log", True))
    gen_server.cast(sink, 0.001)
    await module.timed_out.wait()
    assert (await sys.debug(sink, ("log", "get")))[1][1] == ("in", "timeout")


async def test_statistics(sink):
    assert await sys.debug(sink, ("statistics", "get")) == ("ok", "no_statistics")
    await sys.debug(sink, ("statistics", True))
    gen_server.cast(sink, None)
    assert await sys.debug(sink, ("statistics", "get")) == ("ok", [("messages_in", 1)])
    await sys.debug(sink, ("statistics", False))
    assert await sys.debug(sink, ("statistics", "get")) == ("ok", "no_statistics")


async def test_what_sys_does_not_know(sink):
    assert await sys.debug(sink, "strange") == ("error", "unknown_debug")
    assert await sys._ask(sink, "strange", 5) == ("error", ("unknown_system_msg", "strange"))


async def test_status_of_a_server(sink):
    await sys.trace(sink, True)
    await sys.debug(sink, ("log", True))
    await sys.debug(sink, ("statistics", True))
    _, process, behaviour, (_, state, parent, options, items) = await sys.get_status("sink")
    assert (process, behaviour, state) == (sink, ("module", "gen_server"), "running")
    assert parent is sink
    assert options == [("trace", True), ("log", 0), ("statistics", True)]
    assert items[0] == ("header", b"Status for gen_server sink")
    assert items[-1] == ("data", [(b"State", 0)])


async def test_status_of_a_state_machine():
    class Machine(GenStatem[str, int]):
        def init(self, _args):
            return gen_statem.Ok("a", 1, gen_statem.Timeout("x", 100.0, "content"))

        def handle_event(self, _type, _content, _state, _data):
            return gen_statem.KeepStateAndData(gen_statem.Postpone())

    machine = await gen_statem.start(Machine)
    gen_statem.cast(machine, 1)
    status = await sys.get_status(machine)
    assert status[3][4][-1] == (
        "data",
        [(b"Time-outs", [(("timeout", "x"), "content")]), (b"Postponed", [("cast", 1)])],
    )
    machine.exit("kill")


async def test_a_change_that_raises_changes_nothing(sink):
    with pytest.raises(Exit) as caught:
        await sys.replace_state(sink, lambda state: state + None)
    tag, where, (kind, _) = caught.value.reason
    assert (tag, where, kind) == (
        "callback_failed",
        ("gen_server", "system_replace_state"),
        "error",
    )
    assert await sys.get_state(sink) == 0
