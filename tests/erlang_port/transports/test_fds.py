import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from functools import partial

import pytest

from erlang_port.etf import Atom, decode, encode
from erlang_port.frames import FrameReader, frame
from erlang_port.messages import (
    Call,
    Cast,
    Credit,
    Heartbeat,
    Hello,
    Log,
    Replies,
    Reply,
    batch,
    batch_done,
    decode_message,
    encode_message,
)
from erlang_port.transports import fds
from erlang_port.transports.calls import MAX_HANDLERS, MAX_WAITING
from erlang_port.transports.fds import CallError, Disconnected, Liveness, PortConnection
from tests.erlang_port import live
from tests.erlang_port.test_protocol import GREETING
from tests.support.processes import descendants, wait_gone, wait_until


class Node:
    """The node's end of two pipes, read and written by the test."""

    def __init__(self):
        self.from_program, self.program_writes = os.pipe()
        self.program_reads, self.to_program = os.pipe()
        os.set_blocking(self.from_program, False)
        self.reader = FrameReader(8 * 1024 * 1024)
        self.messages = []

    def send(self, *messages):
        data = b"".join(frame(encode_message(message)) for message in messages)
        os.write(self.to_program, data)

    async def receive(self, kind, timeout=5):
        """The next message of a kind; what comes before it is kept in `messages`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for n, message in enumerate(self.messages):
                if isinstance(message, kind):
                    return self.messages.pop(n)
            try:
                data = os.read(self.from_program, 65536)
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            self.messages += map(decode_message, self.reader.feed(data))
        raise AssertionError(f"no {kind.__name__} came")

    def close(self):
        for fd in (self.from_program, self.to_program, self.program_reads, self.program_writes):
            if fd is not None:
                os.close(fd)


@pytest.fixture
def node():
    node = Node()
    yield node
    node.close()


@pytest.fixture
async def connect(node):
    opened = []

    async def connect(**greeting):
        values = {**GREETING, **{key.encode(): value for key, value in greeting.items()}}
        connection = PortConnection(name="port_program", version="1")
        opened.append(connection)
        node.send(Hello(values))
        peer = await connection.connect(node.program_reads, node.program_writes, 5)
        assert peer.name == "node@host"
        await node.receive(Hello)
        return connection

    yield connect
    for connection in opened:
        await connection.close()


async def test_a_call_to_the_node_and_its_answer(node, connect):
    connection = await connect()
    asking = asyncio.create_task(connection.call("node", Atom("status"), 5))
    call = await node.receive(Call)
    assert (call.name, call.request, call.timeout_ms) == (b"node", "status", 5000)
    node.send(Replies([Reply(call.id, True, encode({b"sessions": 3}))]))
    assert await asking == {b"sessions": 3}


async def test_an_answer_that_is_no_term_fails_its_own_caller_only(node, connect):
    connection = await connect()
    asking = [asyncio.create_task(connection.call("node", n, 5)) for n in range(3)]
    calls = [await node.receive(Call) for _ in asking]
    node.send(
        Replies(
            [
                Reply(calls[0].id, True, b"\x83garbage"),
                Reply(calls[1].id, False, encode((Atom("refused"), "not allowed"))),
                Reply(calls[2].id, True, encode(b"fine")),
            ]
        )
    )
    with pytest.raises(CallError, match="badarg: the answer is no term"):
        await asking[0]
    with pytest.raises(CallError, match="refused: not allowed"):
        await asking[1]
    assert await asking[2] == b"fine"
    assert connection.statistics().undecoded == 1
    assert connection.statistics().discarded == 0


async def test_what_cannot_be_decoded_is_counted_apart_from_what_is_not_wanted(node, connect):
    connection = await connect()
    os.write(node.to_program, frame(b"\x83no term") + frame(encode(Atom("no_message"))))
    node.send(Log("info", b"node", b"a message that no node sends"))
    asking = asyncio.create_task(connection.call("node", Atom("status"), 5))
    call = await node.receive(Call)
    node.send(Replies([Reply(call.id, True, encode(1))]))
    await asking
    figures = connection.statistics()
    assert (figures.discarded, figures.undecoded) == (3, 2)


async def test_a_call_without_an_answer_ends_at_its_time_and_a_late_answer_is_ignored(
    node, connect
):
    connection = await connect()
    with pytest.raises(TimeoutError):
        await connection.call("node", 1, 0.05)
    call = await node.receive(Call)
    node.send(Replies([Reply(call.id, True, encode(1))]))
    asking = asyncio.create_task(connection.call("node", 2, 5))
    second = await node.receive(Call)
    node.send(Replies([Reply(second.id, True, encode(2))]))
    assert await asking == 2
    assert connection.statistics().calls_waiting == 0


async def test_calls_of_the_node_are_answered_by_name(node, connect):
    connection = await connect()

    async def double(request):
        return request * 2

    async def refuse(_):
        raise CallError("refused", "never")

    async def crash(_):
        raise ZeroDivisionError("the text stays here")

    async def hang(_):
        await asyncio.Event().wait()

    async def no_term(_):
        return object()

    for handler in (double, refuse, crash, hang, no_term):
        connection.register(handler.__name__, handler)
    node.send(
        Call(1, b"double", 21, 5000), Call(2, b"refuse", 0, 5000), Call(3, b"crash", 0, 5000),
        Call(4, b"hang", 0, 20), Call(5, b"nobody", 0, 5000), Call(6, b"no_term", 0, 5000),
    )  # fmt: skip
    answers = {}
    while len(answers) < 6:
        for reply in (await node.receive(Replies)).replies:
            answers[reply.id] = decode(reply.answer)
    assert answers[1] == 42
    assert answers[2] == ("refused", b"never")
    assert answers[3] == ("crash", b"ZeroDivisionError")
    assert answers[4] == ("timeout", b"no answer in time")
    assert answers[5][0] == "noproc"
    assert answers[6][0] == "crash"


async def test_more_calls_than_may_wait_are_refused(node, connect):
    connection = await connect()
    go = asyncio.Event()

    async def wait(_):
        await go.wait()
        return 1

    connection.register("wait", wait)
    most = MAX_HANDLERS + MAX_WAITING
    for n in range(most):
        node.send(Call(n, b"wait", 0, 5000))
        # The pipe holds a part of them only.
        await asyncio.sleep(0)
    await wait_for(lambda: connection.statistics().calls_handled == most)
    node.send(*(Call(most + n, b"wait", 0, 5000) for n in range(6)))
    refused = (await node.receive(Replies)).replies
    assert [decode(reply.answer)[0] for reply in refused] == ["overload"] * 6
    go.set()
    answered = 0
    while answered < most:
        answered += len((await node.receive(Replies)).replies)
    assert connection.statistics().calls_handled == 0


async def test_what_cannot_be_handed_on_ends_the_connection(node, connect):
    # The node has everything that was read with it, and asks the next program.
    connection = await connect()
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))

    def fail(_):
        raise ZeroDivisionError

    connection.on_batch = fail
    node.send(batch(b"b", 0, b""), Call(1, b"n", 0, 5000))
    reason = await asyncio.wait_for(connection.closed(), 5)
    assert reason == "what the node sent could not be handed on"
    assert isinstance(failures[0]["exception"], ZeroDivisionError)


async def test_a_node_of_another_protocol_gets_a_hello_to_log(node):
    connection = PortConnection(name="p", version="1")
    node.send(Hello({**GREETING, b"protocol": [2]}))
    with pytest.raises(Disconnected, match="upgrade the older"):
        await connection.connect(node.program_reads, node.program_writes, 5)
    await connection.close()
    assert (await node.receive(Hello)).values[b"protocol"] == [1]


async def wait_for(condition, timeout=5):
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110  # a figure tells nobody that it changes
            await asyncio.sleep(0.005)


async def test_batches_go_to_their_taker_and_answers_back_as_they_came(node, connect):
    connection = await connect()
    taken = asyncio.get_running_loop().create_future()
    connection.on_batch = taken.set_result
    sent = batch(b"b", 3, b"body")
    node.send(sent)
    done = batch_done(b"b", 3, b"formatted")
    assert await asyncio.wait_for(taken, 5) == sent
    connection.send_batch_answer(done.payload)
    assert await node.receive(type(done)) == done


async def test_a_log_line_from_another_thread(node, connect):
    connection = await connect()
    await asyncio.to_thread(connection.log, "warning", "stderr", "é")
    assert await node.receive(Log) == Log("warning", b"stderr", "é".encode())


async def test_frames_wait_for_credit_and_every_one_comes_whole(node, connect):
    connection = await connect(credit=4096, max_frame=2048)
    for n in range(200):
        connection.cast("n", n)
    first = len([m for m in [await node.receive(object)] if m])
    assert connection.statistics().queued > 0
    received = first
    while received < 200:
        node.send(Credit(1000))
        await node.receive(object)
        received += 1
    assert connection.statistics().queued == 0


async def test_a_heartbeat_goes_out_when_the_loop_is_blocked(node, connect):
    await connect(heartbeat_interval=20)
    # What a slow callback does: the loop stands still, the writer's thread does not.
    time.sleep(0.6)  # noqa: ASYNC251
    beats = [await node.receive(Heartbeat) for _ in range(20)]
    assert [b.seq for b in beats] == sorted({b.seq for b in beats})
    assert max(b.lag_ms for b in beats) >= 50


async def test_a_loop_that_is_blocked_for_ever_does_look_like_a_hang(node, connect, monkeypatch):
    monkeypatch.setattr(fds, "MAX_LAG", 0.5)
    await connect(heartbeat_interval=50)
    time.sleep(1.5)  # noqa: ASYNC251
    messages = map(decode_message, node.reader.feed(os.read(node.from_program, 65536)))
    # Those of the first 0.75 s and none of the rest.
    assert 1 <= sum(isinstance(message, Heartbeat) for message in messages) <= 20
    # A loop that goes on does so with heartbeats.
    await node.receive(Heartbeat)


async def test_a_silent_node_ends_the_connection(connect):
    connection = await connect(heartbeat_timeout=300)
    waiting = asyncio.create_task(connection.call("node", 1, 20))
    assert await asyncio.wait_for(connection.closed(), 5) == "the node was silent for 0.3 s"
    with pytest.raises(Disconnected):
        await waiting
    with pytest.raises(Disconnected):
        await connection.call("node", 1, 1)


async def test_silence_while_the_machine_stood_still_is_not_the_nodes(node, connect, monkeypatch):
    connection = await connect(heartbeat_interval=300, heartbeat_timeout=600)
    node.send(Heartbeat(1, 0))
    await wait_for(lambda: connection.statistics().frames_received == 2)
    # Both were frozen, as a container is when it is paused: the clock went on, nothing was sent.
    clock = time.monotonic
    monkeypatch.setattr(fds.time, "monotonic", lambda: clock() + 60)
    await wait_for(lambda: connection.statistics().loop_lag > 50)
    assert connection.connected
    # But silence from there on is.
    reason = await asyncio.wait_for(connection.closed(), 5)
    assert "silent for 0.6 s" in reason


async def test_the_wait_for_the_hello_is_no_lag_of_the_loop(node):
    connection = PortConnection(name="port_program", version="1")
    connecting = asyncio.create_task(connection.connect(node.program_reads, node.program_writes, 5))
    await asyncio.sleep(0.6)
    node.send(Hello(GREETING))
    await connecting
    assert connection.statistics().loop_lag < 0.3
    await connection.close()


async def test_end_of_file_ends_the_connection(node, connect):
    connection = await connect()
    os.close(node.to_program)
    node.to_program = None
    assert await asyncio.wait_for(connection.closed(), 5) == "the node closed the port"


async def test_garbage_ends_the_connection(node, connect):
    connection = await connect()
    os.write(node.to_program, b"\xff\xff\xff\xff")
    assert "4294967295 bytes" in await asyncio.wait_for(connection.closed(), 5)


async def test_a_node_that_no_longer_reads_ends_the_connection(node, connect):
    connection = await connect(heartbeat_interval=10)
    os.close(node.from_program)
    node.from_program = None
    assert "writing to the node failed" in await asyncio.wait_for(connection.closed(), 5)


async def test_no_hello_is_an_error(node):
    connection = PortConnection(name="p", version="1")
    with pytest.raises(Disconnected, match=r"no hello within 0\.05 s"):
        await connection.connect(node.program_reads, node.program_writes, 0.05)
    await connection.close()


# A program that is slow to read would have to be asked within its credit of 8 MiB.
@pytest.mark.parametrize(
    ("node_is", "calls", "size", "asked"),
    [
        ("quick", 2000, 10, 1000),
        ("quick", 200, 100_000, 70),
        ("quick", 6, 3_500_000, 2),
        ("slow", 200, 10_000, 1),
    ],
)
def test_both_directions_under_load_with_a_live_vm(node_is, calls, size, asked):
    result = live.run("echo.py", calls, size, asked, node=node_is)
    assert result["end"] == "done"
    frames = [rest[0] for tag, *rest in result["messages"] if tag == "replies"]
    answered = [decode(answer) for replies in frames for _, _, answer in replies]
    assert sorted(n for n, _ in answered) == list(range(1, asked + 1))
    assert all(payload == b"x" * size for _, payload in answered)
    done = result["messages"][-1]
    assert done[:2] == ("cast", b"done")
    assert done[2][b"waiting"] == 0
    assert done[2][b"seen"] == asked
    assert done[2][b"discarded"] == 0
    if size == 10:
        # Several answers are one frame: how many, the turns of two loops decide.
        assert len(frames) < asked
    if node_is == "slow":
        # The credit was gone, and came again.
        assert done[2][b"queued"] > 1_000_000


def test_what_the_program_does_not_know_is_dropped_and_it_goes_on():
    result = live.run("echo.py", 5, 10, 3, node="strange")
    assert result["end"] == "done"
    done = result["messages"][-1]
    assert done[2][b"discarded"] == 4
    assert done[2][b"seen"] == 3


def test_a_finaliser_may_log_in_the_middle_of_anything():
    result = live.run("talkative.py", 2000)
    assert result["end"] == "done"
    casts = [content for tag, *rest in result["messages"] if tag == "cast" for content in rest[1:]]
    assert casts == [*range(2000), {b"dropped": 0}]
    assert sum(tag == "log" for tag, *_ in result["messages"]) == 2000


def test_garbage_ends_the_program():
    assert live.run("echo.py", 5, 10, 3, node="garbage")["end"] == ("exit_status", 3)


def test_a_port_that_is_closed_ends_the_program():
    assert live.run("echo.py", 5, 10, 3, node="closing")["end"] == "gone"


@pytest.mark.parametrize("stop", [False, True])
def test_the_program_is_gone_when_its_vm_is_killed(stop):
    # With so many calls it is still at work when the VM goes.
    with subprocess.Popen(live.command("echo.py", 10_000_000, 10, 1)) as vm:
        found = []

        def program():
            # What the VM forks has the VM's own command line until it runs something else; the
            # program's first acts are done once descriptor 3 was moved to 64.
            found[:] = [
                pid
                for pid in descendants(vm.pid)
                if b"echo.py" in cmdline(pid) and os.path.lexists(f"/proc/{pid}/fd/64")
            ]
            return found

        wait_until(program, 20)
        (pid,) = found
        if stop:
            os.kill(pid, signal.SIGSTOP)
        vm.kill()
        wait_gone(pid, 2)


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


# One connection after another, over sockets.


class Socket:
    """The two ends of a socket."""

    def __init__(self):
        self.ours, theirs = socket.socketpair()
        self.theirs = theirs
        theirs.setblocking(False)
        self._reader = FrameReader(8 * 1024 * 1024)
        self._messages = []

    def send(self, *messages):
        self.theirs.sendall(b"".join(frame(encode_message(message)) for message in messages))

    async def receive(self, kind):
        async with asyncio.timeout(5):
            while True:
                for n, message in enumerate(self._messages):
                    if isinstance(message, kind):
                        return self._messages.pop(n)
                data = await asyncio.get_running_loop().sock_recv(self.theirs, 65536)
                assert data, f"it ended before a {kind.__name__}"
                self._messages += map(decode_message, self._reader.feed(data))

    def close(self):
        self.ours.close()
        self.theirs.close()


LIVENESS = Liveness(0.05, 5.0)


@pytest.fixture
async def port():
    port = PortConnection(name="sidecar", version="1")
    yield port
    await port.close()


@pytest.fixture
def new_socket():
    made = []

    def new():
        made.append(Socket())
        return made[-1]

    yield new
    for one in made:
        one.close()


async def turn(port, link, epoch=1, after=0, **greeting):
    """The sidecar's turn."""
    standing = asyncio.create_task(port.stand_by(link.ours.fileno(), LIVENESS, after))
    values = {**GREETING, **{key.encode(): value for key, value in greeting.items()}}
    link.send(Hello({**values, b"epoch": epoch}))
    peer = await asyncio.wait_for(standing, 5)
    await link.receive(Hello)
    return peer


async def test_it_stands_by_with_heartbeats_until_its_turn(port, new_socket):
    link = new_socket()
    standing = asyncio.create_task(port.stand_by(link.ours.fileno(), LIVENESS, 3))
    beats = [await link.receive(Heartbeat) for _ in range(3)]
    assert [beat.seq for beat in beats] == sorted({beat.seq for beat in beats})
    assert not port.connected
    with pytest.raises(Disconnected, match="there is no connection"):
        await port.call("node", 1, 1)
    port.cast("node", 1)
    port.send_batch_answer(b"nothing")
    assert port.send_signals([]) == ()
    link.send(Heartbeat(1, 0), Hello({**GREETING, b"epoch": 4}))
    assert (await asyncio.wait_for(standing, 5)).epoch == 4
    assert port.connected


async def test_a_hello_of_an_epoch_that_was_seen_is_the_end(port, new_socket):
    link = new_socket()
    standing = asyncio.create_task(port.stand_by(link.ours.fileno(), LIVENESS, 4))
    link.send(Hello({**GREETING, b"epoch": 4}))
    with pytest.raises(Disconnected, match="epoch 4, and 4 was seen before"):
        await standing


async def test_a_node_that_is_silent_while_it_stands_by(port, new_socket):
    with pytest.raises(Disconnected, match=r"the node was silent for 0\.3 s"):
        await port.stand_by(new_socket().ours.fileno(), Liveness(0.05, 0.3), 0)


async def test_cancelled_while_it_stands_by_and_used_again(port, new_socket):
    link = new_socket()
    standing = asyncio.create_task(port.stand_by(link.ours.fileno(), LIVENESS, 0))
    await link.receive(Heartbeat)
    standing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await standing
    assert await port.close()
    await turn(port, new_socket())


async def test_nothing_of_one_connection_reaches_the_next(port, new_socket):
    """Calls, answers, queued frames, credit and numbers are each connection's own."""
    go = asyncio.Event()
    ended = []

    async def slow(_):
        try:
            await go.wait()
        finally:
            ended.append(1)
        return b"of the first"

    port.register("slow", slow)
    first = new_socket()
    await turn(port, first, credit=4096, max_frame=2048)
    asking = asyncio.create_task(port.call("node", b"the first", 20))
    call = await first.receive(Call)
    # 64 run, and the others wait for one of those to end.
    first.send(*(Call(n, b"slow", 0, 20_000) for n in range(100)))
    for n in range(300):
        port.cast("n", n)
    await wait_for(lambda: port.statistics().calls_handled == 100)
    assert port.statistics().queued > 0
    first.theirs.close()
    with pytest.raises(Disconnected):
        await asking
    await asyncio.wait_for(port.closed(), 5)
    assert await port.close()
    first.ours.close()
    await wait_for(lambda: port.statistics().calls_handled == 0)
    assert len(ended) == MAX_HANDLERS
    go.set()
    before = port.statistics()

    second = new_socket()
    await turn(port, second, epoch=2)
    assert port.statistics().queued == 0
    again = asyncio.create_task(port.call("node", b"the second", 5))
    asked = await second.receive(Call)
    assert (asked.id, asked.request) == (call.id, b"the second")
    second.send(Replies([Reply(asked.id, True, encode(b"answer"))]))
    assert await again == b"answer"
    second.send(Call(0, b"slow", 0, 5000))
    (reply,) = (await second.receive(Replies)).replies
    assert (reply.id, decode(reply.answer)) == (0, b"of the first")
    # Of the first there was neither a cast nor an answer.
    assert not any(isinstance(m, Cast | Replies) for m in second._messages)
    after = port.statistics()
    assert after.frames_received > before.frames_received
    assert after.frames_sent > before.frames_sent
    assert after.bytes_sent > before.bytes_sent


async def test_a_hundred_connections_leave_nothing(port, new_socket):
    for n in range(1, 101):
        link = new_socket()
        await turn(port, link, epoch=n, after=n - 1)
        assert await port.close()
        link.close()
    # Not the threads of the loop's executor, of which a busy machine has more.
    assert [thread for thread in threading.enumerate() if thread.name == "port-writer"] == []
    # A loop that was late between two connections, and not since the first.
    assert port.statistics().loop_lag < 5


async def test_who_still_waits_for_room_is_told(port, new_socket, monkeypatch):
    """A descriptor that a thread writes to is not to be closed: the next one has its number."""
    link = new_socket()
    await turn(port, link, credit=1 << 30, max_frame=1 << 20)
    for _ in range(40):
        port.cast("n", b"x" * 100_000)
    writer = port._writer
    monkeypatch.setattr(writer, "close", partial(close_after, writer, type(writer).close))
    assert not await port.close()
    # As the sidecar does it: both sides are told, and then nobody has it any more.
    link.ours.shutdown(socket.SHUT_RDWR)
    monkeypatch.undo()
    assert await port.close()


def close_after(writer, close, _):
    return close(writer, 0.05)


async def test_an_error_of_the_last_connection_s_writer_is_not_this_one_s(port, new_socket):
    first, second = new_socket(), new_socket()
    await turn(port, first)
    failed = port._writer._failed
    assert await port.close()
    await turn(port, second, epoch=2)
    # A thread that was late: the machine was busy.
    failed(BrokenPipeError(32, "Broken pipe"))
    asking = asyncio.create_task(port.call("node", 1, 5))
    asked = await second.receive(Call)
    second.send(Replies([Reply(asked.id, True, encode(1))]))
    assert await asking == 1


async def test_without_a_connection_there_is_no_lag(port, new_socket, monkeypatch):
    link = new_socket()
    await turn(port, link)
    await port.close()
    clock = time.monotonic
    monkeypatch.setattr(fds.time, "monotonic", lambda: clock() + 3600)
    assert port.statistics().loop_lag == 0
