"""What gen_server is in Python alone; beside OTP's it is compared in test_compare_gen_server.py."""

import asyncio
import logging

import pytest

from erlang_port.otp import gen_server, supervisor, sys
from erlang_port.otp.gen_server import Continue, Exit, GenServer, NoReply, Ok, Reply, StartError
from erlang_port.otp.node import node
from erlang_port.otp.supervisor import ChildSpec, Flags, Tree
from tests.erlang_port.otp.processes import as_process
from tests.erlang_port.otp.test_process import end_of


class Counter(GenServer[int]):
    def init(self, args):
        return Ok(args)

    def handle_call(self, message, _from, state):
        if message == "fail":
            raise KeyError("Juliet's secret")
        return Reply(state, state + message)


async def test_the_server_of_the_docstring():
    counter = await gen_server.start(Counter, 5, name="counter")
    assert await gen_server.call("counter", 2) == 5
    assert await gen_server.call(counter, 0) == 7
    await gen_server.stop("counter")
    assert not counter.alive


async def test_an_object_is_a_module_too():
    module = Counter()
    process = await gen_server.start(module, 1)
    assert await gen_server.call(process, 0) == 1
    assert process.label == "Counter"


async def test_a_message_without_handle_info_ends_the_server():
    # Here OTP writes a warning only.
    process = await gen_server.start(Counter, 1)
    process.send("hello")
    assert await end_of(process) == ("bad_info", "hello")


@pytest.mark.parametrize("kind", ["call", "cast"])
async def test_what_no_callback_takes_ends_the_server(kind):
    class Bare(GenServer[None]):
        def init(self, _args):
            return Ok(None)

    process = await gen_server.start(Bare)
    if kind == "call":
        with pytest.raises(Exit, match="bad_call"):
            await gen_server.call(process, 1)
    gen_server.cast(process, 1)
    assert await end_of(process) == (f"bad_{kind}", 1)


async def test_a_continue_that_no_callback_takes():
    class Bare(GenServer[None]):
        def init(self, _args):
            return Ok(None, Continue(1))

    process = await gen_server.start(Bare)
    assert await end_of(process) == ("bad_continue", 1)


async def test_the_callers_reason_carries_the_traceback_and_the_log_shows_it(caplog):
    process = await gen_server.start(Counter, 1)
    with pytest.raises(Exit) as caught:
        await gen_server.call(process, "fail")
    ((tag, kind, _), lines), _ = caught.value.reason
    assert (tag, kind) == ("python_error", b"KeyError")
    assert any(b"in handle_call" in line for line in lines)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is KeyError


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1)])
async def test_a_quiet_end_is_not_logged(reason, caplog):
    process = await gen_server.start(Counter, 1)
    await gen_server.stop(process, reason)
    assert not caplog.records


async def test_a_reason_is_logged_without_what_is_in_it(caplog):
    process = await gen_server.start(Counter, 1)
    await gen_server.stop(process, ("refused", "Juliet's secret"))
    assert "refused" in caplog.text
    assert "secret" not in caplog.text


async def test_init_fails_with_its_traceback(caplog):
    class Broken(GenServer[None]):
        async def init(self, args):
            raise ValueError(args)

    with pytest.raises(StartError) as caught:
        await gen_server.start(Broken, "why")
    assert caught.value.reason[0] == ("python_error", b"ValueError", b"why")
    assert "init failed" in caplog.text


async def test_who_gives_up_starting_leaves_no_server():
    begun = asyncio.Event()

    class Slow(GenServer[None]):
        async def init(self, _args):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(gen_server.start(Slow, name="slow"))
    await begun.wait()
    process = gen_server.gen.Runtime.here().whereis("slow")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await end_of(process) == "killed"


async def test_a_slow_callback_keeps_messages_waiting_and_no_other_server():
    go = asyncio.Event()

    class Slow(Counter):
        async def handle_cast(self, message, state):
            await go.wait()
            return NoReply(state + message)

    slow, other = await gen_server.start(Slow, 1), await gen_server.start(Counter, 1)
    gen_server.cast(slow, 1)
    waiting = gen_server.send_request(slow, 1)
    assert await gen_server.call(other, 1) == 1
    assert not waiting.answered
    go.set()
    assert await waiting.response(5) == 2


async def test_a_server_calls_others_as_itself():
    class Caller(GenServer[None]):
        def init(self, args):
            return Ok(args)

        async def handle_call(self, message, _from, state):
            return Reply(await gen_server.call(state, message), state)

    class Who(GenServer[None]):
        def init(self, _args):
            return Ok(None)

        def handle_call(self, _message, from_, state):
            return Reply(from_.pid, state)

    who = await gen_server.start(Who)
    caller = await gen_server.start(Caller, who)
    assert await gen_server.call(caller, 1) is caller
    assert await gen_server.call(who, 1) is None


async def test_old_timeouts_are_no_messages():
    seen = []
    timed_out = asyncio.Event()

    class Timed(GenServer[int]):
        def init(self, _args):
            return Ok(0)

        def handle_cast(self, message, state):
            return NoReply(state + 1, message)

        def handle_info(self, info, state):
            seen.append((info, state))
            timed_out.set()
            return NoReply(state)

    process = await gen_server.start(Timed)
    for timeout in (0, 0, None, 0):
        gen_server.cast(process, timeout)
    await timed_out.wait()
    assert await sys.get_state(process) == 4
    assert seen == [("timeout", 4)]


class Chain(GenServer[int]):
    """Goes on until there is nothing left to do, or for ever."""

    def __init__(self, times, *, is_async=False):
        self.times = times
        self.is_async = is_async

    def init(self, args):
        return Ok(0, args)

    def handle_call(self, message, _from, state):
        return Reply(state, state, message)

    def handle_continue(self, content, state):
        then = Continue(content) if state + 1 < self.times else None
        result = NoReply(state + 1, then)
        return self.later(result) if self.is_async else result

    async def later(self, result):
        return result


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("begins_in", ["init", "handle_call"])
async def test_a_long_chain_of_continues(begins_in, is_async):
    first = Continue(b"next")
    module = Chain(20_000, is_async=is_async)
    process = await gen_server.start(module, first if begins_in == "init" else None)
    if begins_in == "handle_call":
        assert await gen_server.call(process, first) == 0
    assert await gen_server.call(process, None) == 20_000
    await gen_server.stop(process)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_chain_without_an_end_keeps_nobody_from_working_and_ends_by_a_signal(is_async):
    process = await gen_server.start(Chain(10**9, is_async=is_async), Continue(b"next"))
    other = await gen_server.start(Counter, 1)
    for _ in range(10):
        assert await gen_server.call(other, 0) == 1
    # As in OTP, no message comes before what is put off, not even one of sys.
    with pytest.raises(Exit) as caught:
        await gen_server.stop(process, timeout=0.05)
    assert caught.value.reason == "timeout"
    process.exit("shutdown")
    assert await end_of(process) == "shutdown"


@as_process
async def test_a_supervisor_ends_a_chain_without_an_end():
    chain = ChildSpec("chain", gen_server.start_link, (Chain(10**9), Continue(b"next")))
    top = await supervisor.start_link(Tree("top", Flags(), [chain]))
    [(_, process, *_)] = await supervisor.which_children(top)
    await supervisor.terminate_child(top, "chain")
    assert process.exit_reason == "shutdown"


async def test_what_is_put_off_is_no_message():
    process = await gen_server.start(Chain(3))
    await sys.debug(process, ("log", True))
    await sys.debug(process, ("statistics", True))
    assert await gen_server.call(process, Continue(b"next")) == 0
    assert await gen_server.call(process, None) == 3
    assert await sys.debug(process, ("statistics", "get")) == ("ok", [("messages_in", 2)])
    _, logged = await sys.debug(process, ("log", "get"))
    assert [message[0] for _, message in logged] == ["$gen_call", "$gen_call"]


async def test_the_servers_of_one_name_at_several_nodes():
    # Without a connection there is one node; more of them are in tests/e2e/test_cluster.py.
    await gen_server.start(Counter, 1, name="counter")
    nodes = ["a@nowhere", node(), "b@nowhere"]
    assert await gen_server.multi_call(nodes, "counter", 2) == ([(node(), 1)], [nodes[0], nodes[2]])
    assert await gen_server.multi_call(nodes, "nobody", 2) == ([], nodes)
    assert await gen_server.multi_call([], "counter", 2) == ([], [])


async def test_abcast():
    class Kept(Counter):
        def handle_cast(self, message, state):
            return NoReply(state + message)

    process = await gen_server.start(Kept, 1, name="counter")
    gen_server.abcast([node(), "a@nowhere"], "counter", 2)
    gen_server.abcast([node()], "nobody", 2)
    assert await gen_server.call(process, 0) == 3


async def test_who_does_not_answer_in_time_is_a_bad_node():
    class Slow(Counter):
        def handle_call(self, _message, _from, state):
            return NoReply(state)

    await gen_server.start(Slow, 1, name="counter")
    assert await gen_server.multi_call([node()], "counter", 2, 0.01) == ([], [node()])
