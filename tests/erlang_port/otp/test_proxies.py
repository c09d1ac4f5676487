"""How proxies start and end, and what becomes of what is sent meanwhile.

With a stand-in for the port; on a real node: tests/e2e/test_servers.py and test_stampede.py.
"""

import asyncio

import pytest

from erlang_port.etf import Atom, encode
from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, Ok, StartError
from erlang_port.otp.proxies import EXPOSE_TIMEOUT, MAX_WAITING
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.runtime import self as running
from erlang_port.transports.calls import CallError
from tests.erlang_port.otp.port_stand_in import PROXY, SOMEBODY, idle, nothing_left, pid, take
from tests.erlang_port.otp.processes import as_process, turns
from tests.erlang_port.otp.test_runtime import Registry


async def test_what_a_process_sent_before_it_ended_arrives(runtime, node, port):
    process = idle(runtime)
    port.held = True
    node.send(process, SOMEBODY, b"first")
    await turns()
    node.send(process, Atom("logger"), b"second")
    process.exit(Atom("broken"))
    node.send(process, SOMEBODY, b"from the dead")
    await turns()
    assert not port.sent
    port.release()
    await turns()
    assert port.of(process) == [
        ("send", 0, (SOMEBODY, b"first")),
        ("send", 0, ("logger", b"second")),
        ("exit", 0, "broken"),
    ]
    assert nothing_left(node)


async def test_who_ends_while_its_proxy_is_started_leaves_nothing(runtime, node, port):
    process = idle(runtime)
    port.held = True
    exposing = asyncio.create_task(node.expose(process, ["name"]))
    await turns()
    process.exit(Atom("broken"))
    port.release()
    assert await exposing == pid(PROXY + process.id)
    await turns()
    assert port.sent == [(process.id, "exit", 0, "broken")]
    assert node.proxy(process) is None
    assert nothing_left(node)


class Quiet(GenServer[None]):
    def init(self, args):
        return Ok(args)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("quiet", [("local", b"quiet")]),
        (("local", Atom("quiet")), [("local", b"quiet")]),
        (("global", "quiet"), [("global", b"quiet")]),
        # What the node has no registry or no name for.
        (("global", ("quiet", 1)), []),
        (("via", Registry(), "quiet"), []),
    ],
)
async def test_the_node_has_the_names_of_servers(node, port, name, names):
    process = await gen_server.start(Quiet, name=name)
    assert port.calls == [("processes", ("start", process.id, names), EXPOSE_TIMEOUT)]
    assert node.proxy(process) == pid(PROXY + process.id)
    with pytest.raises(Exit, match="a proxy already"):
        await node.expose(process)
    await gen_server.stop(process)
    await turns()
    assert port.of(process) == [("exit", 0, "normal")]
    assert nothing_left(node)


async def test_a_server_whose_name_is_refused_does_not_start(runtime, node, port):
    port.answer = refused
    with pytest.raises(StartError) as caught:
        await gen_server.start(Quiet, name="quiet")
    assert caught.value.reason == ("overload", b"there are as many processes as there may be")
    assert not runtime.names
    assert not runtime.processes
    assert nothing_left(node)


async def give_up(starting, _parent):
    starting.cancel()


async def end_the_server(_starting, _parent):
    Runtime.here().whereis("quiet").exit(Atom("broken"))


async def end_the_parent(_starting, parent):
    parent.exit(Atom("broken"))


@pytest.mark.parametrize("how", [give_up, end_the_server, end_the_parent])
async def test_a_start_that_is_given_up_meanwhile_leaves_no_proxy(runtime, node, port, how):
    port.held = True

    starting = []

    async def body():
        starting.append(asyncio.current_task())
        await gen_server.start_link(Quiet, name="quiet")

    parent = runtime.spawn(body, label="parent")
    await turns()
    server = runtime.whereis("quiet")
    await how(starting[0], parent)
    await turns()
    assert not server.alive
    assert not runtime.processes
    assert not runtime.names
    assert not port.sent
    port.release()
    await turns()
    assert port.sent == [(server.id, "exit", 0, server.exit_reason)]
    assert nothing_left(node)


async def test_a_start_within_a_time_counts_the_proxys(runtime, node, port):
    port.held = True
    with pytest.raises(StartError, match="timeout"):
        await gen_server.start(Quiet, name="quiet", timeout=0.01)
    assert not runtime.processes
    port.release()
    await turns()
    assert [signal[1:] for signal in port.sent] == [("exit", 0, "killed")]
    assert nothing_left(node)


async def test_a_proxy_that_is_not_there_in_time_is_ended(runtime, node, port):
    def late(_request):
        raise TimeoutError

    process = idle(runtime)
    port.answer = late
    with pytest.raises(Exit, match="noconnection"):
        await node.expose(process)
    await turns()
    assert port.of(process) == [("exit", 0, "noconnection")]
    assert process.alive
    assert nothing_left(node)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(ConnectionError("the node closed the port"), "noconnection"), (b"no pid", "no pid")],
)
async def test_no_proxy(runtime, node, port, answer, reason):
    def answers(_request):
        if isinstance(answer, Exception):
            raise answer
        return answer

    port.answer = answers
    with pytest.raises(Exit, match=reason):
        await node.expose(idle(runtime))
    assert nothing_left(node)


def refused(_request):
    raise CallError("overload", "there are as many processes as there may be")


@as_process
async def test_links_and_monitors_are_told_that_there_is_no_proxy(node, port):
    port.answer = refused
    me, other, unlinked = running(), pid(2), pid(3)
    me.link(SOMEBODY)
    me.link(unlinked)
    me.unlink(unlinked)
    reference, by_name = me.monitor(other), me.monitor("somebody")
    me.demonitor(me.monitor(other))
    node.send(me, SOMEBODY, b"lost")
    assert await me.receive(1) == ("EXIT", SOMEBODY, "noconnection")
    assert await me.receive(1) == ("DOWN", reference, "process", other, "noconnection")
    assert await me.receive(1) == ("DOWN", by_name, "process", "somebody", "noconnection")
    await turns()
    assert not me.mailbox
    assert not me.links
    assert not port.sent
    assert nothing_left(node)
    # The next signal asks again.
    port.answer = port.proxies
    me.link(SOMEBODY)
    await turns()
    assert port.of(me) == [("link", 0, SOMEBODY)]


async def test_a_link_without_a_proxy_ends_who_traps_no_exits(runtime, node, port):
    port.answer = refused
    process = idle(runtime)
    process.link(SOMEBODY)
    await turns()
    assert process.exit_reason == "noconnection"
    assert not port.sent
    assert nothing_left(node)


@as_process
async def test_what_waits_for_a_proxy_is_bounded(node, port):
    me = running()
    port.held = True
    for _ in range(3):
        node.send(me, SOMEBODY, b"x" * (MAX_WAITING // 4))
    # As much as there is room for, and not a byte more.
    left = MAX_WAITING - node._proxies._waiting_bytes - len(encode((SOMEBODY, b"")))
    node.send(me, SOMEBODY, b"x" * (left + 1))
    node.send(me, SOMEBODY, b"x" * left)
    me.link(SOMEBODY)
    reference = me.monitor(SOMEBODY)
    assert await me.receive(1) == ("EXIT", SOMEBODY, "noconnection")
    assert await me.receive(1) == ("DOWN", reference, "process", SOMEBODY, "noconnection")
    assert not me.links
    port.release()
    await turns()
    assert len(port.of(me)) == 4
    assert not node._proxies._waiting
    assert node._proxies._waiting_bytes == 0


async def test_a_proxy_that_is_gone_ends_its_process(runtime, node, port):
    process = idle(runtime)
    process.trap_exit = True
    await node.expose(process)
    take(node, process, "gone", Atom("killed"))
    assert process.exit_reason == "killed"
    await turns()
    assert not port.sent
    assert nothing_left(node)


async def test_a_proxy_that_is_gone_before_its_pid_is_known(runtime, node, port):
    process = idle(runtime)
    port.held = True
    exposing = asyncio.create_task(node.expose(process))
    await turns()
    take(node, process, "gone", Atom("killed"))
    port.release()
    await exposing
    await turns()
    assert process.exit_reason == "killed"
    assert nothing_left(node)


async def test_an_exit_signal_of_its_own_leaves_the_proxy_to_be_ended(runtime, node, port):
    process = idle(runtime)
    proxy = await node.expose(process)
    node.exit(process, proxy, Atom("by_hand"))
    # It comes back from there.
    take(node, process, "exit", (proxy, Atom("by_hand")))
    await turns()
    assert port.of(process) == [
        ("exit_signal", 0, (proxy, "by_hand")),
        ("exit", 0, "by_hand"),
    ]
    assert nothing_left(node)
