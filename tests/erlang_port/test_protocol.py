import pytest

from erlang_port.etf import Atom, decode, encode
from erlang_port.frames import FrameReader, frame
from erlang_port.messages import (
    Batch,
    BatchDone,
    Call,
    Cast,
    Credit,
    Heartbeat,
    Hello,
    Log,
    Replies,
    Reply,
    Signal,
    Signals,
    batch,
    batch_done,
    decode_message,
    encode_message,
)
from erlang_port.protocol import (
    MAX_FRAME,
    MAX_LOG_QUEUE,
    MAX_QUEUE,
    WINDOW,
    Answered,
    Called,
    Discarded,
    Greeted,
    Overload,
    Protocol,
    ProtocolError,
)

GREETING = {
    b"protocol": [1, 2],
    b"capabilities": [b"calls", b"batches", b"logs", b"telepathy"],
    b"max_frame": 1024 * 1024,
    b"credit": 2 * 1024 * 1024,
    b"heartbeat_interval": 1000,
    b"heartbeat_timeout": 5000,
    b"version": b"9.9",
    b"name": b"node@host",
    b"something new": 1,
}


def sent(protocol):
    """The messages that the protocol lets out now."""
    reader = FrameReader(MAX_FRAME)
    return [decode_message(p) for data in protocol.data_to_send() for p in reader.feed(data)]


def received(protocol, *messages):
    return protocol.receive_data(b"".join(frame(encode_message(m)) for m in messages))


def greeted(**changes):
    protocol = Protocol(name="port_program", version="0.1.0", os_pid=7)
    greeting = {**GREETING, **{key.encode(): value for key, value in changes.items()}}
    received(protocol, Hello(greeting))
    (hello,) = sent(protocol)
    assert isinstance(hello, Hello)
    return protocol


def flood(act, times=100_000):
    for _ in range(times):
        act()


def test_the_hellos():
    protocol = Protocol(name="port_program", version="0.1.0", os_pid=7)
    assert protocol.data_to_send() == []
    (event,) = received(protocol, Hello(GREETING))
    assert isinstance(event, Greeted)
    assert event.peer.name == "node@host"
    assert event.peer.capabilities == {b"calls", b"batches", b"logs"}
    assert event.peer.heartbeat_timeout == 5.0
    (hello,) = sent(protocol)
    assert hello.values[b"os_pid"] == 7
    assert hello.values[b"credit"] >= 2 * hello.values[b"max_frame"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"protocol": [2]}, "upgrade the older"),
        ({"protocol": b"1"}, "upgrade the older"),
        ({"max_frame": 0}, "no valid max_frame"),
        ({"credit": 1024 * 1024}, "no valid credit"),
        ({"heartbeat_timeout": None}, "no valid heartbeat_timeout"),
        # Neither is a time that a clock of this machine could wait for.
        ({"heartbeat_timeout": 10**400}, "no valid heartbeat_timeout"),
        ({"heartbeat_interval": 10**20}, "no valid heartbeat_interval"),
        ({"name": 5}, "no valid name"),
        ({"capabilities": b""}, "no valid capabilities"),
    ],
)
def test_a_hello_that_this_end_cannot_talk_to(changes, complaint):
    with pytest.raises(ProtocolError, match=complaint):
        greeted(**changes)


def test_a_node_of_another_protocol_learns_what_this_end_speaks():
    protocol = Protocol(name="p", version="1", os_pid=1)
    with pytest.raises(ProtocolError):
        received(protocol, Hello({**GREETING, b"protocol": [2]}))
    (hello,) = sent(protocol)
    assert hello.values[b"protocol"] == [1]


@pytest.mark.parametrize("first", [encode_message(Credit(5)), b"\x83garbage"])
def test_anything_before_the_hello_ends_the_connection(first):
    with pytest.raises(ProtocolError, match="no hello"):
        Protocol(name="p", version="1", os_pid=1).receive_data(frame(first))


def test_garbage_on_the_pipe_ends_the_connection():
    with pytest.raises(ProtocolError, match="4294967295 bytes"):
        Protocol(name="p", version="1", os_pid=1).receive_data(b"\xff\xff\xff\xff")


def test_a_frame_that_is_no_message_is_dropped_and_the_connection_goes_on():
    protocol = greeted()
    unknown = encode((Atom("whisper"), 1))
    events = protocol.receive_data(
        frame(b"\x83garbage") + frame(unknown) + frame(encode_message(Cast(b"x", 1)))
    )
    assert [type(event) for event in events] == [Discarded, Discarded, Cast]


def test_a_message_that_a_node_does_not_send_is_dropped():
    events = received(greeted(), batch_done(b"b", 0, b""), Log("info", b"", b""), Hello({}))
    assert [type(event) for event in events] == [Discarded] * 3


def test_calls_casts_batches_and_answers_arrive_in_order():
    protocol = greeted()
    messages = [Call(1, b"n", 2, 3), Cast(b"n", 4), batch(b"b", 0, b"body")]
    events = received(protocol, *messages, Replies([Reply(5, True, b"x"), Reply(6, False, b"y")]))
    called = Called(messages[0], len(frame(encode_message(messages[0]))))
    assert events == [called, *messages[1:], Answered(5, True, b"x"), Answered(6, False, b"y")]
    assert isinstance(events[2], Batch)


def test_signals_that_are_read_together_are_handed_on_together():
    first, second, third, fourth = (Signal(n, "info", 0, encode(n)) for n in range(1, 5))
    cast = Cast(b"name", 1)
    events = received(
        greeted(), Signals([first]), Signals([second, third]), cast, Signals([fourth])
    )
    assert events == [Signals([first, second, third]), cast, Signals([fourth])]


def test_without_credit_frames_wait_and_go_out_in_order_when_it_comes():
    protocol = greeted(max_frame=1024, credit=2048)
    for n in range(4):
        protocol.send(Cast(b"n", bytes([n]) * 800))
    assert [m.message[0] for m in sent(protocol)] == [0, 1]
    assert protocol.queued_bytes > 1600
    received(protocol, Credit(900))
    assert [m.message[0] for m in sent(protocol)] == [2]
    received(protocol, Credit(2048))
    assert [m.message[0] for m in sent(protocol)] == [3]
    assert protocol.queued_bytes == 0


def test_the_queue_is_bounded_and_log_lines_may_fill_only_a_part_of_it():
    protocol = greeted()
    line = Log("info", b"stdout", b"x" * 4000)
    with pytest.raises(Overload):
        flood(lambda: protocol.send(line))
    assert protocol.queued_bytes <= MAX_LOG_QUEUE
    with pytest.raises(Overload):
        flood(lambda: protocol.send(Cast(b"n", b"x" * 500_000)))
    assert MAX_QUEUE - 600_000 < protocol.queued_bytes <= MAX_QUEUE
    # A batch's answer is never refused: the node bounds how many there are.
    protocol.send_batch_answer(batch_done(b"b", 0, b"x" * 500_000).payload)


def test_a_message_longer_than_the_nodes_frames_is_refused_and_nothing_is_sent():
    protocol = greeted()
    with pytest.raises(Overload, match="longer than a frame"):
        protocol.send(Cast(b"n", b"x" * 1024 * 1024))
    with pytest.raises(Overload, match="longer than a frame"):
        protocol.send_batch_answer(batch_done(b"b", 0, b"x" * 1024 * 1024).payload)
    assert protocol.data_to_send() == []


def test_a_node_that_sends_more_than_its_credit_ends_the_connection():
    protocol = greeted()
    cast = Cast(b"n", b"x" * 1024 * 1024)
    for _ in range(7):
        received(protocol, cast)
    # Nothing was handed on, so nothing is given back.
    assert sent(protocol) == []
    with pytest.raises(ProtocolError, match="more than its credit"):
        received(protocol, cast)


def test_what_the_node_gives_is_counted_up_to_a_bound():
    protocol = greeted()
    received(protocol, Credit(10**400))
    # A gauge can show it.
    assert float(protocol.credit) >= WINDOW


def test_what_was_handed_on_is_given_back_in_quarters_of_the_window():
    protocol = greeted()
    cast = Cast(b"n", b"x" * 1024 * 1024)
    cost = len(frame(encode_message(cast)))
    given = 0
    for _ in range(64):
        received(protocol, cast)
        protocol.handed_on()
        given += sum(m.size for m in sent(protocol))
    assert 0 <= 64 * cost - given < WINDOW // 4 + cost


def test_several_answers_are_one_frame_and_each_is_a_term_of_its_own():
    protocol = greeted()
    protocol.reply([Reply(n, True, encode(n)) for n in range(50)])
    (replies,) = sent(protocol)
    assert [(r.id, decode(r.answer)) for r in replies.replies] == [(n, n) for n in range(50)]


def test_answers_are_split_over_frames_and_one_that_fits_none_is_an_error_for_its_caller():
    protocol = greeted()
    answers = [Reply(n, True, encode(b"x" * 400_000)) for n in range(5)]
    protocol.reply([*answers, Reply(9, True, encode(b"x" * 2_000_000))])
    received(protocol, Credit(10_000_000))
    messages = sent(protocol)
    assert len(messages) == 3
    replies = [reply for message in messages for reply in message.replies]
    assert [r.id for r in replies if r.ok] == [0, 1, 2, 3, 4]
    (failed,) = [r for r in replies if not r.ok]
    kind, text = decode(failed.answer)
    assert (failed.id, kind) == (9, "crash")
    assert b"more than a frame" in text


def signalled(protocol):
    """The signals that the protocol lets out now: number, kind, and the reason of an end."""
    return [
        (s.ref, s.kind, decode(s.payload) if s.kind in {"refuse", "exit"} else len(s.payload))
        for message in sent(protocol)
        for s in message.signals
    ]


LONG, SHORT = encode(b"x" * 2_000_000), encode(b"short")


def test_a_signal_that_no_frame_holds_is_lost_but_calls_and_proxies_end():
    protocol = greeted()
    signals = [
        Signal(1, "send", 1, SHORT),
        Signal(1, "reply", 2, LONG),
        Signal(1, "refuse", 3, LONG),
        Signal(1, "cast", 4, LONG),
        Signal(2, "exit", 0, LONG),
        Signal(3, "exit", 0, encode(Atom("normal"))),
    ]
    assert protocol.signal(signals) == [signals[3]]
    too_large = ("too_large", len(LONG))
    assert signalled(protocol) == [
        (1, "send", len(SHORT)),
        (2, "refuse", too_large),
        (3, "refuse", too_large),
        (0, "exit", too_large),
        (0, "exit", "normal"),
    ]


def test_without_room_signals_are_lost_but_calls_and_proxies_end():
    protocol = greeted()
    full = [Signal(1, "cast", 0, encode(b"x" * 900_000)) for _ in range(50)]
    lost = protocol.signal(full)
    queued = len(full) - len(lost)
    assert MAX_QUEUE - 2_000_000 < protocol.queued_bytes <= MAX_QUEUE
    signals = [
        Signal(1, "reply", 1, full[0].payload),
        Signal(1, "monitor", 2, SHORT),
        Signal(1, "refuse", 3, encode(Atom("no"))),
        Signal(1, "exit", 0, encode(Atom("broken"))),
    ]
    assert protocol.signal(signals) == [signals[1]]
    received(protocol, Credit(100_000_000))
    assert signalled(protocol)[queued:] == [
        (1, "refuse", "overload"),
        (3, "refuse", "no"),
        (0, "exit", "broken"),
    ]


def test_batch_answers_go_out_as_they_came():
    protocol = greeted()
    answer = batch_done(b"b", 3, b"body")
    protocol.send_batch_answer(answer.payload)
    (message,) = sent(protocol)
    assert isinstance(message, BatchDone)
    assert message.payload == answer.payload


# On a socket.


def standing_by(after_epoch=7):
    return Protocol(name="sidecar", version="0.1.0", os_pid=7, after_epoch=after_epoch)


def test_heartbeats_while_it_stands_by():
    protocol = standing_by()
    for n in range(100):
        assert received(protocol, Heartbeat(n, 0)) == []
    assert sent(protocol) == []
    (greeting,) = received(protocol, Hello({**GREETING, b"epoch": 8}))
    assert greeting.peer.epoch == 8
    (hello,) = sent(protocol)
    assert hello.values[b"name"] == b"sidecar"


def test_on_a_port_nothing_comes_before_the_hello():
    protocol = Protocol(name="port_program", version="0.1.0", os_pid=7)
    with pytest.raises(ProtocolError, match="first frame is no hello"):
        received(protocol, Heartbeat(1, 0))


@pytest.mark.parametrize("message", [Credit(1), Log("info", b"a", b"b"), batch(b"b", 0, b"")])
def test_nothing_but_heartbeats_while_it_stands_by(message):
    with pytest.raises(ProtocolError, match="first frame is no hello"):
        received(standing_by(), message)


@pytest.mark.parametrize("epoch", [7, 6, 0, -1, 2**48, 2**64, b"8", 8.0, True, None])
def test_a_hello_whose_epoch_is_none_of_the_node_s_own(epoch):
    protocol = standing_by()
    with pytest.raises(ProtocolError, match="and 7 was seen before: it is not the node's own"):
        received(protocol, Hello({**GREETING, b"epoch": epoch}))
    assert protocol.peer is None
    assert sent(protocol) == []


def test_the_first_and_the_last_epoch():
    for after, epoch in ((0, 1), (7, 2**48 - 1)):
        (greeting,) = received(standing_by(after), Hello({**GREETING, b"epoch": epoch}))
        assert greeting.peer.epoch == epoch
