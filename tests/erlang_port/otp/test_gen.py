"""Calls: requests, their answers, and what is dropped."""

import asyncio
import gc

import pytest

from erlang_port.etf import Atom
from erlang_port.otp import gen, gen_fsm, gen_server, gen_statem
from erlang_port.otp.gen_server import Exit, GenServer, NoReply, Ok, Reply, Stop
from erlang_port.otp.runtime import Runtime


class Keeper(GenServer[list]):
    """Answers none but those that say so."""

    def init(self, _args):
        return Ok([])

    def handle_call(self, message, from_, state):
        match message:
            case "answer":
                return Reply("answer", state)
            case "stop":
                return Stop(Atom("stopped"), state)
            case "callers":
                return Reply(state, state)
        return NoReply([*state, from_])

    def handle_cast(self, message, state):
        return NoReply([*state, message])


@pytest.fixture
async def keeper():
    return await gen_server.start(Keeper)


async def test_an_answer_after_the_timeout_is_dropped_for_good(keeper):
    request = gen_server.send_request(keeper, "keep")
    with pytest.raises(Exit, match="timeout"):
        await request.response(0.001)
    (from_,) = await gen_server.call(keeper, "callers")
    gen_server.reply(from_, "late")
    with pytest.raises(Exit, match="timeout"):
        await request.response(1)


async def test_a_caller_that_is_cancelled_wants_no_answer(keeper):
    task = asyncio.create_task(gen_server.call(keeper, "keep"))
    while not (callers := await gen_server.call(keeper, "callers")):
        pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gen_server.reply(callers[0], "late")
    assert keeper._watchers is None


async def test_calls_leave_nothing_behind(keeper):
    for _ in range(3):
        await gen_server.call(keeper, "answer")
    assert keeper._watchers is None
    assert not keeper.mailbox


async def test_a_request_whose_end_nobody_asks_for_is_not_logged(keeper, caplog):
    gen_server.send_request(keeper, "keep")
    keeper.exit("kill")
    gen_server.send_request(keeper, "keep")
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_the_reason_names_the_call(keeper):
    with pytest.raises(Exit) as caught:
        await gen_server.call(keeper, "stop")
    assert caught.value.reason == ("stopped", ("gen_server", "call", [keeper, "stop"]))


async def test_an_exit_is_no_other_exception():
    assert issubclass(gen.StartError, Exit)
    assert gen.StartError("timeout").reason == "timeout"


class Elsewhere:
    """A node where every call is answered with what it was."""

    name = Atom("here@host")

    async def call(self, kind, target, request, timeout):
        return kind, target, request, timeout


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (gen_server.call, "$gen_call"),
        (gen_statem.call, "$gen_call"),
        (gen_fsm.sync_send_event, "$gen_sync_event"),
        (gen_fsm.sync_send_all_state_event, "$gen_sync_all_state_event"),
    ],
)
async def test_a_call_to_the_node_says_what_it_is(ask, kind):
    Runtime.here().remote = Elsewhere()
    assert await ask("at_the_node", 1, 2.0) == (kind, "at_the_node", 1, 2.0)


async def test_a_request_to_the_node_has_the_nodes_time():
    Runtime.here().remote = Elsewhere()
    answer = await gen_server.send_request("at_the_node", 1).response(5)
    assert answer == ("$gen_call", "at_the_node", 1, None)
