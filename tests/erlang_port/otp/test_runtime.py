"""The runtime: names, whose turn it is, and the loop that it shares with everything else."""

import asyncio
import time
from functools import partial

import pytest

from erlang_port.etf import Atom, Pid
from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, NoReply, Ok, Reply, StartError
from erlang_port.otp.process import NOTHING
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import MAX_USED, SLICE, Runtime, is_at_node, self


class Echo(GenServer[None]):
    def init(self, _args):
        return Ok(None)

    def handle_call(self, message, _from, state):
        return Reply(message, state)


class Registry:
    """A module of `{via, Module, Name}`."""

    def __init__(self):
        self.names = {}

    def register_name(self, name, process):
        return self.names.setdefault(name, process) is process

    def unregister_name(self, name):
        self.names.pop(name, None)

    def whereis_name(self, name):
        return self.names.get(name)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("echo", ("local", "echo")),
        (Atom("echo"), "echo"),
        (("local", "echo"), Atom("echo")),
        (("global", "echo"), ("global", Atom("echo"))),
        (("global", ("a", 1)), ("global", ("a", 1))),
    ],
)
async def test_names(name, same):
    process = await gen_server.start(Echo, name=name)
    runtime = Runtime.here()
    assert runtime.whereis(same) is process
    assert await gen_server.call(same, 1) == 1
    with pytest.raises(StartError) as caught:
        await gen_server.start(Echo, name=same)
    assert caught.value.reason == ("already_started", process)
    process.exit("kill")
    assert runtime.whereis(name) is None
    assert not runtime.names


async def test_a_local_name_is_no_global_one():
    await gen_server.start(Echo, name="echo")
    assert Runtime.here().whereis(("global", "echo")) is None


async def test_a_name_at_a_node():
    runtime = Runtime.here()
    process = await gen_server.start(Echo, name="echo")
    assert runtime.node == "nonode@nohost"
    assert runtime.whereis(("echo", "nonode@nohost")) is process
    assert await gen_server.call(("echo", Atom("nonode@nohost")), 1) == 1
    assert runtime.whereis(("nobody", "nonode@nohost")) is None
    assert runtime.whereis(("echo", "a@nowhere")) is None


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (("echo", "a@host"), True),
        ((Atom("echo"), Atom("a@host")), True),
        (("local", "echo"), False),
        (("global", "echo"), False),
        (("echo", 1), False),
        (("echo", "a@host", 1), False),
        ("echo", False),
    ],
)
def test_what_is_a_name_at_a_node(name, is_one):
    assert is_at_node(name) is is_one


async def test_names_by_a_module():
    registry = Registry()
    name = ("via", registry, "echo")
    process = await gen_server.start(Echo, name=name)
    assert registry.names == {"echo": process}
    assert await gen_server.call(name, 1) == 1
    with pytest.raises(StartError) as caught:
        await gen_server.start(Echo, name=name)
    assert caught.value.reason == ("already_started", process)
    Runtime.here().unregister(name)
    assert Runtime.here().whereis(name) is None


async def test_several_names_of_one():
    runtime = Runtime.here()
    process = await gen_server.start(Echo, name="one")
    runtime.register("two", process)
    runtime.unregister("one")
    assert runtime.whereis("one") is None
    with pytest.raises(ValueError, match="one"):
        runtime.unregister("one")
    process.exit("kill")
    assert not runtime.names
    with pytest.raises(ValueError, match="ended"):
        runtime.register("one", process)


async def test_nobody_is_at_a_node_that_is_not_there():
    runtime = Runtime.here()
    pid = Pid(b"X")
    assert runtime.whereis(pid) is pid
    with pytest.raises(Exit) as caught:
        runtime.at_node()
    assert caught.value.reason == "noconnection"


async def test_no_process_runs_outside_of_one():
    with pytest.raises(RuntimeError):
        self()


async def test_a_server_that_casts_to_itself_for_ever_keeps_nobody_from_working():
    class Restless(Echo):
        def handle_cast(self, message, state):
            gen_server.cast(self.process, message)
            return NoReply(state)

    module = Restless()
    module.process = await gen_server.start(module)
    other = await gen_server.start(Echo)
    gen_server.cast(module.process, 1)
    gaps = []
    for _ in range(10):
        before = time.monotonic()
        await asyncio.sleep(0)
        gaps.append(time.monotonic() - before)
        assert await gen_server.call(other, 1) == 1
        assert await gen_server.call(module.process, 2) == 2
    # A turn is cut at its end only, and the machine may be busy.
    assert min(gaps) < SLICE * 10
    module.process.exit("kill")


async def test_an_end_that_fails_keeps_no_signals_from_others(caplog):
    runtime = Runtime.here()
    first, failing, *others = (runtime.idle("idle") for _ in range(10))
    failing.cleanup = lambda: 1 / 0
    for process in (failing, *others):
        first.link(process)
    first.exit("broken")
    assert {process.exit_reason for process in (first, failing, *others)} == {"broken"}
    assert "the end of <idle 2> failed" in caplog.text
    # And none from those that come later.
    one, other = runtime.idle("idle"), runtime.idle("idle")
    one.link(other)
    one.exit("broken")
    assert other.exit_reason == "broken"


class Noting(Echo):
    """Takes casts as it is told to: at once, or as a coroutine."""

    def handle_cast(self, message, state):
        return self.later(state) if message == "later" else NoReply(state)

    async def later(self, state):
        return NoReply(state)


@pytest.mark.parametrize(("how", "servers"), [("at once", 2 * MAX_USED), ("later", 1)])
async def test_bursts_alone_leave_few_mailboxes(how, servers):
    runtime = Runtime.here()
    all_servers = [await gen_server.start(Noting) for _ in range(servers)]
    most = 0
    for n in range(3 * MAX_USED):
        runtime.burst(partial(gen_server.cast, all_servers[n % servers], how))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        most = max(most, len(runtime._used))
    assert most <= MAX_USED + 1
    assert sum(server.mailbox is not NOTHING for server in all_servers) <= MAX_USED + 1


async def test_each_loop_has_its_own():
    mine = Runtime.here()
    await gen_server.start(Echo, name="echo")

    async def other():
        assert Runtime.here() is not mine
        assert Runtime.here().whereis("echo") is None

    await asyncio.to_thread(asyncio.run, other())
