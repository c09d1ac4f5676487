"""Processes as the node sees them, and the node's as they do.

A stand-in for `Port` notes what goes out: what comes of it on a real node is shown by
tests/e2e/test_servers.py and test_stampede.py.
"""

import time

import pytest

from erlang_port.etf import Atom, decode, encode
from erlang_port.messages import Signal
from erlang_port.otp import gen, gen_server, sys
from erlang_port.otp.gen_server import GenServer, NoReply, Ok, Reply
from erlang_port.otp.reasons import Exit
from erlang_port.otp.remote import attach
from erlang_port.otp.runtime import self as running
from erlang_port.transports.calls import CallError
from tests.erlang_port.otp.port_stand_in import SOMEBODY, idle, nothing_left, pid, take
from tests.erlang_port.otp.processes import as_process, turns

# From the node.


@pytest.mark.parametrize(
    ("kind", "payload", "why"),
    [
        ("call", b"\x83w\x05abc", b"the term ends too early"),
        ("call", encode((SOMEBODY, b"request")), b"ValueError"),
        ("sync_event", encode((SOMEBODY, b"request", Atom("soon"))), b"TypeError"),
        ("system", encode(7), b"TypeError"),
    ],
)
async def test_a_call_that_cannot_be_taken_is_refused_and_what_is_behind_it_comes(
    runtime, node, port, caplog, kind, payload, why
):
    got = []
    process = idle(runtime)
    process.become(got.append)
    node.take(
        [
            Signal(process.id, kind, 7, payload),
            Signal(process.id, "exit", 0, encode(b"no exit")),
            Signal(process.id, "down", 7, b"no term"),
            Signal(process.id, "info", 0, encode(b"behind it")),
        ]
    )
    assert got == [b"behind it"]
    [(kind_of_answer, number, (badarg, text))] = port.of(process)
    assert (kind_of_answer, number, badarg) == ("refuse", 7, "badarg")
    assert why in text
    assert len(caplog.messages) == 3
    assert port.undecoded == 1 + (why == b"the term ends too early")


# Calls of the node's, and answers.


class Clerk(GenServer[list]):
    """Answers as it is asked to; state: what came that was no call, and callers who wait."""

    def init(self, _args):
        return Ok([])

    def handle_call(self, message, from_, state):
        if message == "later":
            return NoReply([*state, from_])
        return Reply(message, state)

    def handle_cast(self, message, state):
        return NoReply([*state, (Atom("cast"), message)])

    def handle_info(self, info, state):
        return NoReply([*state, info])


async def test_calls_are_answered_by_their_numbers(node, port):
    clerk = await gen_server.start(Clerk)
    infinity = Atom("infinity")
    take(node, clerk, "call", (SOMEBODY, Atom("later"), infinity), 7)
    take(node, clerk, "call", (pid(2), b"now", infinity), 8)
    assert port.of(clerk) == [("reply", 8, b"now")]
    [from_] = await sys.get_state(clerk)
    assert from_.pid == SOMEBODY
    for answer in (b"first", b"second"):
        gen_server.reply(from_, answer)
    await turns()
    assert port.of(clerk)[1:] == [("reply", 7, b"first")]
    clerk.exit("kill")


async def test_a_call_whose_time_is_over_is_not_begun(node, port):
    clerk = await gen_server.start(Clerk)
    take(node, clerk, "call", (SOMEBODY, b"late", 0), 7)
    take(node, clerk, "call", (SOMEBODY, b"in time", 60_000), 8)
    assert port.of(clerk) == [("reply", 8, b"in time")]
    clerk.exit("kill")


async def test_every_kind_of_message_is_what_it_is_in_erlang(runtime, node):
    got = []
    process = idle(runtime)
    process.become(got.append)
    for kind in ("cast", "event", "all_event", "info"):
        take(node, process, kind, (kind.encode(), 1))
    assert got == [
        ("$gen_cast", (b"cast", 1)),
        ("$gen_event", (b"event", 1)),
        ("$gen_all_state_event", (b"all_event", 1)),
        (b"info", 1),
    ]
    got.clear()
    for kind, timeout in (("call", 500), ("sync_event", 500), ("sync_all_event", 500)):
        take(node, process, kind, (SOMEBODY, kind.encode(), timeout), 7)
    take(node, process, "system", (SOMEBODY, Atom("get_state"), True), 8)
    take(node, process, "of a later version", 1)
    assert [(kind, from_.pid, request) for kind, from_, request in got] == [
        ("$gen_call", SOMEBODY, b"call"),
        ("$gen_sync_event", SOMEBODY, b"sync_event"),
        ("$gen_sync_all_state_event", SOMEBODY, b"sync_all_event"),
        ("system", SOMEBODY, "get_state"),
    ]
    *calls, (_, system, _) = got
    assert system.tag.deadline is None
    for _, from_, _ in calls:
        assert 0 < from_.tag.deadline - time.monotonic() <= 0.5


async def test_sys_of_the_nodes(node, port):
    clerk = await gen_server.start(Clerk)
    take(node, clerk, "cast", b"one")
    take(node, clerk, "info", b"two")
    state = [("cast", b"one"), b"two"]
    for ref, wants_ok in ((9, True), (10, False)):
        take(node, clerk, "system", (SOMEBODY, Atom("get_state"), wants_ok), ref)
    assert port.of(clerk) == [("reply", 9, ("ok", state)), ("reply", 10, state)]
    # Other answers with an `ok` in them are alike everywhere.
    take(node, clerk, "system", (SOMEBODY, (Atom("debug"), (Atom("log"), Atom("get"))), False), 11)
    assert port.of(clerk)[2:] == [("reply", 11, ("ok", []))]
    clerk.exit("kill")


async def test_what_erlang_has_no_term_for_is_converted(runtime, node, port):
    """In answers, messages, reasons and requests alike."""
    process, other = idle(runtime), idle(runtime)
    proxy = await node.expose(other)
    strange = (other, {1})
    converted = (proxy, b"{1}")
    node.answer(process.id, 7, strange)
    node.send(process, SOMEBODY, strange)
    node.exit(process, SOMEBODY, strange)
    await turns()
    process.exit(strange)
    await turns()
    assert port.of(process) == [
        ("reply", 7, converted),
        ("send", 0, (SOMEBODY, converted)),
        ("exit_signal", 0, (SOMEBODY, converted)),
        ("exit", 0, converted),
    ]


async def test_signals_to_who_has_ended_are_dropped(runtime, node, port):
    process = idle(runtime)
    process.exit("kill")
    take(node, process, "call", (SOMEBODY, b"request", Atom("infinity")), 7)
    take(node, process, "info", b"hello")
    assert not port.sent


async def test_what_answers_a_frame_leaves_in_one(node, port, monkeypatch):
    batches = []
    monkeypatch.setattr(port, "send_signals", lambda signals: batches.append(len(signals)))
    clerk = await gen_server.start(Clerk)
    request = encode((SOMEBODY, b"request", Atom("infinity")))
    node.take([Signal(clerk.id, "call", n, request) for n in range(50)])
    assert batches == [50]
    for _ in range(3):
        node.answer(clerk.id, 1, b"of one turn of the loop")
    await turns()
    assert batches == [50, 3]
    clerk.exit("kill")


# To the node.


async def test_who_is_no_process_sends_by_a_process_of_its_own(runtime, node, port):
    node.send(None, SOMEBODY, b"first")
    node.send(None, SOMEBODY, b"second")
    await turns()
    [nobody] = runtime.processes.values()
    assert port.of(nobody) == [
        ("send", 0, (SOMEBODY, b"first")),
        ("send", 0, (SOMEBODY, b"second")),
    ]
    assert len(port.calls) == 1
    # Whoever ends it, there is another one.
    take(node, nobody, "gone", Atom("killed"))
    node.send(None, SOMEBODY, b"third")
    await turns()
    assert port.sent[-1][1:] == ("send", 0, (SOMEBODY, b"third"))
    assert port.sent[-1][0] != nobody.id


async def test_every_kind_of_signal_out(runtime, node, port):
    process = idle(runtime)
    await node.expose(process)
    targets = [
        (SOMEBODY, SOMEBODY),
        ("name", Atom("name")),
        (("local", "name"), Atom("name")),
        (("global", "name"), (Atom("global"), Atom("name"))),
        (("global", (1, 2)), (Atom("global"), (1, 2))),
        (7, 7),
    ]
    for target, _ in targets:
        node.send(process, target, b"message")
        node.send(process, target, (Atom("$gen_cast"), b"message"))
    await turns()
    assert port.of(process) == [
        (kind, 0, (sent, b"message")) for _, sent in targets for kind in ("send", "cast")
    ]
    assert all(type(sent) is Atom for _, _, (sent, _) in port.of(process) if isinstance(sent, str))
    port.sent.clear()
    reference = process.monitor(SOMEBODY)
    process.link(SOMEBODY)
    node.exit(process, SOMEBODY, Atom("reason"))
    # The words of OTP's own are atoms there, too.
    node.exit(process, SOMEBODY, "kill")
    process.unlink(SOMEBODY)
    process.demonitor(reference)
    await turns()
    assert port.of(process) == [
        ("monitor", 1, SOMEBODY),
        ("link", 0, SOMEBODY),
        ("exit_signal", 0, (SOMEBODY, "reason")),
        ("exit_signal", 0, (SOMEBODY, "kill")),
        ("unlink", 0, SOMEBODY),
        ("demonitor", 1, None),
    ]


async def test_calls_to_the_node(node, port):
    port.answer = lambda request: request
    asked = "call", encode(Atom("name")), encode(b"request")
    assert await node.call(gen.CALL, "name", b"request", 2.5) == (*asked, 2500)
    assert await node.rpc("lists", "seq", [1, 2], 1.0) == (
        "rpc",
        b"lists",
        b"seq",
        encode([1, 2]),
        1000,
    )
    # The node's own limit.
    assert await node.call(gen.CALL, "name", b"request", None) == (*asked, 30_000)
    assert await node.rpc("lists", "seq", [1, 2], 100.0) == (*port.calls[1][1][:4], 30_000)
    assert [timeout for *_, timeout in port.calls] == [2.5, 1.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (CallError("noproc", "nobody"), "noproc"),
        (CallError("timeout", "too long"), "timeout"),
        (CallError("refused", "not allowed"), ("refused", b"not allowed")),
        (TimeoutError(), "timeout"),
        (ConnectionError("over"), "noconnection"),
    ],
)
async def test_calls_to_the_node_that_fail(node, port, failure, reason):
    def fails(_request):
        raise failure

    port.answer = fails
    with pytest.raises(Exit) as caught:
        await node.call(gen.CALL, "name", b"request", 1.0)
    assert caught.value.reason == reason


async def test_a_request_that_is_no_term_is_converted(runtime, node, port):
    other = idle(runtime)
    proxy = await node.expose(other)
    port.answer = lambda request: decode(request[2])
    assert await node.call(gen.CALL, "name", (other, {1}), 1.0) == (proxy, b"{1}")
    # Two keys that are one in Erlang.
    twins = {"a": 1, b"a": 2}
    assert await node.call(gen.CALL, "name", twins, 1.0) == repr(twins).encode()


# Links.


@as_process
async def test_links_and_monitors_are_told_that_there_is_no_room(node, port):
    me = running()
    port.loses = {"link", "monitor", "send"}
    me.link(SOMEBODY)
    reference = me.monitor(SOMEBODY)
    node.send(me, SOMEBODY, b"lost")
    node.send(me, SOMEBODY, (Atom("$gen_cast"), b"sent"))
    assert await me.receive(1) == ("EXIT", SOMEBODY, "noconnection")
    assert await me.receive(1) == ("DOWN", reference, "process", SOMEBODY, "noconnection")
    assert not me.links
    assert port.of(me) == [("cast", 0, (SOMEBODY, b"sent"))]


@as_process
async def test_a_link_is_gone_with_its_other_end(node, port):
    me = running()
    me.link(SOMEBODY)
    await turns()
    assert port.of(me) == [("link", 0, SOMEBODY)]
    # exit/2 of who is linked, and of who is not.
    take(node, me, "exit", (SOMEBODY, Atom("by_hand")))
    take(node, me, "exit", (pid(2), Atom("by_hand")))
    assert await me.receive(1) == ("EXIT", SOMEBODY, "by_hand")
    assert await me.receive(1) == ("EXIT", pid(2), "by_hand")
    assert me.links == {SOMEBODY}
    take(node, me, "link_exit", (SOMEBODY, Atom("normal")))
    assert await me.receive(1) == ("EXIT", SOMEBODY, "normal")
    assert not me.links


@as_process
async def test_a_link_that_is_taken_back_has_no_effect(node, port):
    me = running()
    me.link(SOMEBODY)
    me.unlink(SOMEBODY)
    # It ended before it heard of that.
    take(node, me, "link_exit", (SOMEBODY, Atom("broken")))
    assert not me.mailbox
    me.link(SOMEBODY)
    take(node, me, "link_exit", (SOMEBODY, Atom("noproc")))
    assert await me.receive(1) == ("EXIT", SOMEBODY, "noproc")
    assert not me.links
    await turns()
    assert port.of(me) == [("link", 0, SOMEBODY), ("unlink", 0, SOMEBODY), ("link", 0, SOMEBODY)]


async def test_a_normal_end_takes_the_link_of_who_traps_no_exits(runtime, node):
    process = idle(runtime)
    process.link(SOMEBODY)
    take(node, process, "link_exit", (SOMEBODY, Atom("normal")))
    assert process.alive
    assert not process.links
    process.link(SOMEBODY)
    take(node, process, "exit", (SOMEBODY, Atom("normal")))
    assert process.links == {SOMEBODY}
    take(node, process, "link_exit", (SOMEBODY, Atom("broken")))
    assert process.exit_reason == "broken"


@as_process
async def test_links_among_processes_of_the_runtime(runtime):
    me, other = running(), idle(runtime)
    me.link(other)
    me.exit(Atom("by_hand"), other)
    assert await me.receive(1) == ("EXIT", other, "by_hand")
    assert me.links == {other}
    other.exit("kill")
    assert await me.receive(1) == ("EXIT", other, "killed")
    assert not me.links


# Monitors.


@as_process
async def test_a_monitor_fires_once(node, port):
    me = running()
    first, second = me.monitor(SOMEBODY), me.monitor(("global", "somebody"))
    await turns()
    assert port.of(me) == [
        ("monitor", 1, SOMEBODY),
        ("monitor", 2, ("global", "somebody")),
    ]
    for _ in range(2):
        take(node, me, "down", (SOMEBODY, Atom("broken")), 1)
        take(node, me, "down", ((Atom("global"), Atom("somebody")), Atom("noproc")), 2)
    assert await me.receive(1) == ("DOWN", first, "process", SOMEBODY, "broken")
    assert await me.receive(1) == ("DOWN", second, "process", ("global", "somebody"), "noproc")
    assert not me.mailbox
    me.demonitor(first)
    await turns()
    assert len(port.of(me)) == 2
    assert not node._monitors
    assert not node._numbers


@as_process
async def test_a_monitor_that_is_taken_back(node, port):
    me = running()
    kept, taken_back = me.monitor(SOMEBODY), me.monitor(SOMEBODY)
    me.demonitor(taken_back)
    me.demonitor(taken_back)
    await turns()
    assert port.of(me)[2:] == [("demonitor", 2, None)]
    # It fired before the node heard of that.
    take(node, me, "down", (SOMEBODY, Atom("broken")), 2)
    assert not me.mailbox
    # And one whose message is there already takes that along.
    take(node, me, "down", (SOMEBODY, Atom("broken")), 1)
    assert len(me.mailbox) == 1
    me.demonitor(kept)
    assert not me.mailbox


async def test_the_end_of_a_process_is_that_of_its_monitors(runtime, node, port):
    one, other = idle(runtime), idle(runtime)
    for _ in range(3):
        one.monitor(SOMEBODY)
        other.monitor(SOMEBODY)
    one.exit("kill")
    assert {process for process, *_ in node._monitors.values()} == {other}
    await turns()
    take(node, other, "down", (SOMEBODY, Atom("broken")), 2)
    other.exit("kill")
    await turns()
    assert port.of(one)[3:] == [("exit", 0, "killed")]
    assert nothing_left(node)


# The end of the connection.


async def test_links_and_monitors_end_with_the_connection(runtime, node):
    got = []
    process = idle(runtime)
    process.trap_exit = True
    process.become(got.append)
    process.link(SOMEBODY)
    reference = process.monitor(SOMEBODY)
    named = process.monitor((Atom("somebody"), Atom("ejabberd@here")))
    await turns()
    node.disconnected()
    await turns()
    wanted = [
        ("EXIT", SOMEBODY, "noconnection"),
        ("DOWN", reference, "process", SOMEBODY, "noconnection"),
        ("DOWN", named, "process", "somebody", "noconnection"),
    ]
    assert len(got) == 3
    assert all(message in got for message in wanted)
    assert process.links == frozenset()
    assert runtime.remote is None
    assert runtime.node == "nonode@nohost"
    with pytest.raises(Exit, match="noconnection"):
        runtime.at_node()


async def test_one_that_does_not_trap_ends(runtime, node):
    process, other = idle(runtime), idle(runtime)
    process.link(SOMEBODY)
    process.link(other)
    node.disconnected()
    assert (process.exit_reason, other.exit_reason) == ("noconnection", "noconnection")


async def test_what_was_to_go_to_one_node_never_goes_to_the_next(runtime, node, port):
    """The number of a caller is another one's at the next node."""
    callers = []
    process = idle(runtime)
    process.become(lambda message: callers.append(message[1]))
    take(node, process, "call", (SOMEBODY, b"request", Atom("infinity")), 1)
    assert len(callers) == 1
    node.disconnected()
    again = attach(runtime, port, name="ejabberd@here")
    callers[0].tag.reply(b"too late")
    await turns()
    assert port.of(process) == []
    take(again, process, "call", (SOMEBODY, b"request", Atom("infinity")), 1)
    callers[1].tag.reply(b"in time")
    await turns()
    assert port.of(process) == [("reply", 1, b"in time")]


async def test_nobody_is_left_of_a_connection(runtime, port):
    attach(runtime, port, name="ejabberd@here")
    before = len(runtime.processes)
    for _ in range(5):
        runtime.remote.send(None, SOMEBODY, b"from no process")
        await turns()
        runtime.remote.disconnected()
        attach(runtime, port, name="ejabberd@here")
    assert len(runtime.processes) == before


async def test_a_proxy_that_was_being_started_when_it_ended(runtime, node, port):
    port.held = True
    process = idle(runtime)
    runtime.remote.send(process, SOMEBODY, b"waits")
    await turns()
    node.disconnected()
    port.answer = fails(ConnectionError)
    port.release()
    await turns()
    assert nothing_left(node)
    assert process.alive
    assert port.sent == []


def fails(error):
    def answer(_):
        raise error

    return answer
