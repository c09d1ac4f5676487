"""The program's side of the connection to a node, without I/O: hello, credit, calls.

Theory of operation. Bytes that came in go to `receive_data`, which gives events; what is to go
out is taken from `data_to_send`. Between the two stand two accounts:

    outgoing credit   what the node still accepts: a frame that costs credit waits in a queue until
                      there is enough; the queue is bounded, beyond the bound is `Overload`
    incoming credit   what the node may still send: a node that sends more breaks the protocol;
                      what was handed on (`handed_on`) is given back in steps of a quarter of
                      the window

    state      receives                         next state
    waiting    hello                            ready
    waiting    heartbeat, while standing by     waiting
    waiting    anything else                    ProtocolError
    ready      everything but hello             ready
    any        a bad length, credit exceeded    ProtocolError: the connection is over

A payload that is no term, or no message of the protocol, is a `Discarded` event and nothing else.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from erlang_port.etf import Atom, EtfError, Term, encode
from erlang_port.frames import HEADER, MAX_BEFORE_HELLO, MAX_FRAME, FrameError, FrameReader, frame
from erlang_port.messages import (
    CAPABILITIES,
    VERSIONS,
    Batch,
    BatchCancel,
    BatchDone,
    BatchFailed,
    Call,
    Cast,
    Credit,
    Heartbeat,
    Hello,
    Log,
    Message,
    MessageError,
    Replies,
    Reply,
    Signal,
    Signals,
    costs_credit,
    decode_message,
    encode_message,
    error_answer,
)

_T = TypeVar("_T")

#: What the node may send before anything is given back, bytes. Default 8 MiB, twice a frame.
WINDOW = 2 * MAX_FRAME
#: What may wait for the node's credit, bytes. Default 32 MiB.
MAX_QUEUE = 32 * 1024 * 1024
#: What log lines may take of that queue, bytes, so that a worker that prints cannot keep answers
#: from being sent. Default 1 MiB.
MAX_LOG_QUEUE = 1024 * 1024
#: What a frame of several takes beside them, at most.
_ENVELOPE = 64
#: What an answer takes in a frame beside its own bytes, at most.
_REPLY_OVERHEAD = 32
#: What a signal takes in a frame beside its own bytes, at most.
_SIGNAL_OVERHEAD = 64
#: The signals that end a call or a proxy, and what they become when they cannot be sent.
_ENDS = {"reply": "refuse", "refuse": "refuse", "exit": "exit"}
#: Credit is counted up to this many bytes; a node that gives more gives enough.
_MAX_CREDIT = 1 << 40
#: The longest heartbeat interval and timeout that make sense, milliseconds: an hour.
_MAX_HEARTBEAT = 3_600_000


#: The highest epoch: it counts takeovers, and no node gets so far.
MAX_EPOCH = (1 << 48) - 1


class ProtocolError(Exception):
    """The peer broke the protocol, or speaks none that this end knows. The connection is over."""


class Overload(Exception):  # noqa: N818  # the protocol's own word for it
    """What waits for the node's credit is at its bound; nothing was queued."""


class Peer(NamedTuple):
    """What the node's hello said. Sizes in bytes, times in seconds."""

    name: str
    version: str
    capabilities: frozenset[bytes]
    max_frame: int
    heartbeat_interval: float
    heartbeat_timeout: float
    epoch: int | None = None


class Greeted(NamedTuple):
    """The node's hello has come; from now on anything may be sent."""

    peer: Peer


class Answered(NamedTuple):
    """An answer to a call of ours. Its bytes are decoded by who waits for it."""

    id: int
    ok: bool
    answer: bytes


class Called(NamedTuple):
    """A call from the node, and how many bytes its frame had."""

    call: Call
    size: int


class Discarded(NamedTuple):
    """A payload that was no message; the connection goes on. `reason` holds nothing of it."""

    reason: str
    decoded: bool = False


Event: TypeAlias = Greeted | Answered | Discarded | Called | Cast | Signals | Batch | BatchCancel


class Protocol:
    """One connection, from its first byte to its last.

    Args:
        name: What this end calls itself, `port_program`.
        version: Megaphone's version.
        os_pid: This process.
        after_epoch: None on a port. On a socket the highest epoch that was seen: the node may let
            this end stand by before it says hello, and its hello has a higher epoch.
    """

    def __init__(
        self, *, name: str, version: str, os_pid: int, after_epoch: int | None = None
    ) -> None:
        self.peer: Peer | None = None
        self.credit = 0
        self.queued_bytes = 0
        self._after_epoch = after_epoch
        self.frames_received = 0
        self.bytes_received = 0
        self._reader = FrameReader(MAX_BEFORE_HELLO)
        self._hello = Hello(
            {
                b"protocol": list(VERSIONS),
                b"capabilities": list(CAPABILITIES),
                b"max_frame": MAX_FRAME,
                b"credit": WINDOW,
                b"version": version.encode(),
                b"name": name.encode(),
                b"os_pid": os_pid,
            }
        )
        self._window = WINDOW
        self._received = 0
        self._queue: deque[bytes] = deque()
        self._outgoing: list[bytes] = []
        self._next_id = 0

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what was read; return what it means, in order.

        Raises:
            ProtocolError: The connection is over.
        """
        self.bytes_received += len(data)
        events: list[Event] = []
        try:
            for payload in self._reader.feed(data):
                self._receive(payload, events)
        except FrameError as error:
            raise ProtocolError(f"the node sent {error}") from None
        return events

    def _receive(self, payload: bytes, events: list[Event]) -> None:
        self.frames_received += 1
        try:
            message = decode_message(payload)
        except (EtfError, MessageError) as error:
            if self.peer is None:
                raise ProtocolError(f"the node's first frame is no hello: {error}") from None
            # What cannot be read still took the node's credit.
            self._account(payload)
            events.append(Discarded(str(error)))
            return
        if self.peer is None:
            self._first(message, events)
            return
        if costs_credit(message):
            self._account(payload)
        match message:
            case Credit(size):
                self.credit = min(self.credit + size, _MAX_CREDIT)
                self._release()
            case Replies(replies):
                events += [Answered(*reply) for reply in replies]
            case Call():
                events.append(Called(message, len(payload) + HEADER))
            case Signals() | Batch() | Cast() | BatchCancel():
                _add(message, events)
            case Hello() | Log() | BatchDone() | BatchFailed():
                events.append(Discarded("a message that a node does not send", decoded=True))

    def _first(self, message: Message, events: list[Event]) -> None:
        if isinstance(message, Heartbeat) and self._after_epoch is not None:
            return
        if not isinstance(message, Hello):
            raise ProtocolError("the node's first frame is no hello")
        self.peer = self._greet(message.values)
        self._reader.max_payload = MAX_FRAME
        self._outgoing.append(frame(encode_message(self._hello)))
        events.append(Greeted(self.peer))

    def _account(self, payload: bytes) -> None:
        cost = len(payload) + HEADER
        self._window -= cost
        if self._window < 0:
            raise ProtocolError("the node sent more than its credit")
        self._received += cost

    @property
    def owes_credit(self) -> bool:
        """Whether so much was received that `handed_on` gives credit back."""
        return self._received >= WINDOW // 4

    def handed_on(self) -> None:
        """Say that everything received so far was handed on: its credit may be given back.

        To be called after the events of each `receive_data`, where credit is owed.
        """
        if self.owes_credit:
            self._window += self._received
            self._outgoing.append(frame(encode_message(Credit(self._received))))
            self._received = 0

    def _greet(self, values: dict[bytes, Term]) -> Peer:
        versions = values.get(b"protocol")
        if not isinstance(versions, list) or not set(VERSIONS) & {
            v for v in versions if type(v) is int
        }:
            # With this end's hello the node can say in its own log why there is no connection.
            self._outgoing.append(frame(encode_message(self._hello)))
            raise ProtocolError(
                f"the node speaks protocol {versions!r:.60} and this program {list(VERSIONS)}:"
                " upgrade the older of the two"
            )

        def number(key: bytes, least: int, most: int) -> int:
            value = values.get(key)
            if type(value) is not int or not least <= value <= most:
                raise ProtocolError(f"the node's hello has no valid {key.decode()}")
            return value

        def text(key: bytes) -> str:
            value = values.get(key)
            if not isinstance(value, bytes):
                raise ProtocolError(f"the node's hello has no valid {key.decode()}")
            return value.decode(errors="replace")

        capabilities = values.get(b"capabilities")
        if not isinstance(capabilities, list):
            raise ProtocolError("the node's hello has no valid capabilities")
        max_frame = number(b"max_frame", 1024, 0xFFFFFFFF)
        self.credit = number(b"credit", 2 * max_frame, _MAX_CREDIT)
        return Peer(
            name=text(b"name"),
            version=text(b"version"),
            capabilities=frozenset(c for c in capabilities if c in CAPABILITIES),
            max_frame=max_frame,
            heartbeat_interval=number(b"heartbeat_interval", 1, _MAX_HEARTBEAT) / 1000,
            heartbeat_timeout=number(b"heartbeat_timeout", 1, _MAX_HEARTBEAT) / 1000,
            epoch=self._epoch(values),
        )

    def _epoch(self, values: dict[bytes, Term]) -> int | None:
        if self._after_epoch is None:
            return None
        epoch = values.get(b"epoch")
        if type(epoch) is not int or not self._after_epoch < epoch <= MAX_EPOCH:
            raise ProtocolError(
                f"the node's hello is of epoch {epoch!r:.30}, and {self._after_epoch} was seen"
                " before: it is not the node's own"
            )
        return epoch

    def call(self, name: bytes, request: Term, timeout_ms: int) -> int:
        """Queue a call and return its id; its answer comes as `Answered`.

        Raises:
            EtfError: Erlang has no term for the request.
            Overload: Too much waits for credit, or the call is longer than a frame.
        """
        self._next_id += 1
        self.send(Call(self._next_id, name, request, max(1, timeout_ms)))
        return self._next_id

    def reply(self, replies: list[Reply]) -> None:
        """Queue answers, in as few frames as hold them.

        An answer too long for a frame becomes an error for its caller.

        Raises:
            Overload: Too much waits for credit; the answers from there on were not queued.
        """
        limit = self._max_frame() - _ENVELOPE
        for group in _grouped(
            [_fitting(reply, limit) for reply in replies],
            lambda reply: len(reply.answer) + _REPLY_OVERHEAD,
            limit,
        ):
            self.send(Replies(group))

    def signal(self, signals: Sequence[Signal]) -> list[Signal]:
        """Queue signals, in as few frames as hold them.

        A caller is answered and a proxy ends in any case: where there is no room, or no frame that
        holds it, a reply becomes a refusal with the reason `overload` or `{too_large, Bytes}`, and
        too long a reason that one. These wait beyond the bound: there is one of each.

        Returns:
            The others for which there is no room, or which no frame holds: they are lost.
        """
        limit = self._max_frame() - _ENVELOPE
        lost: list[Signal] = []
        for group in _grouped(signals, lambda one: len(one.payload) + _SIGNAL_OVERHEAD, limit):
            try:
                self.send(Signals(group))
            except Overload:
                ends = [_ending(one, limit) for one in group if one.kind in _ENDS]
                lost += [one for one in group if one.kind not in _ENDS]
                if ends:
                    self._queue_payload(encode_message(Signals(ends)), None)
        return lost

    def send(self, message: Message) -> None:
        """Queue a message.

        Raises:
            EtfError: Erlang has no term for a part of it.
            Overload: Too much waits for credit, or the message is longer than a frame.
        """
        bound = MAX_LOG_QUEUE if isinstance(message, Log) else MAX_QUEUE
        self._queue_payload(encode_message(message), bound)

    def send_batch_answer(self, payload: bytes) -> None:
        """Queue a `batch_done` or `batch_failed` as it came from a worker.

        It is never refused for want of room: there are as many as the node has batches in flight.

        Raises:
            Overload: It is longer than a frame.
        """
        self._queue_payload(payload, None)

    def _queue_payload(self, payload: bytes, bound: int | None) -> None:
        if len(payload) > self._max_frame():
            raise Overload(f"a message of {len(payload)} bytes is longer than a frame")
        cost = len(payload) + HEADER
        if bound is not None and self._queue and self.queued_bytes + cost > bound:
            raise Overload(f"{self.queued_bytes} bytes wait for the node already")
        self._queue.append(frame(payload))
        self.queued_bytes += cost
        self._release()

    def data_to_send(self) -> list[bytes]:
        """The frames that may go out now. Each is to be written whole, in this order."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def _max_frame(self) -> int:
        return self.peer.max_frame if self.peer else MAX_BEFORE_HELLO

    def _release(self) -> None:
        queue = self._queue
        while queue and self.credit >= len(queue[0]):
            data = queue.popleft()
            self.credit -= len(data)
            self.queued_bytes -= len(data)
            self._outgoing.append(data)


def _add(message: Signals | Batch | Cast | BatchCancel, events: list[Event]) -> None:
    last = events[-1] if events else None
    if type(message) is Signals and type(last) is Signals:
        # Those that were read together are handed on together, and answered in one frame.
        last.signals.extend(message.signals)
    else:
        events.append(message)


def _fitting(reply: Reply, limit: int) -> Reply:
    if len(reply.answer) + _REPLY_OVERHEAD <= limit:
        return reply
    text = f"the answer has {len(reply.answer)} bytes, more than a frame holds"
    return Reply(reply.id, False, error_answer("crash", text))


def _ending(signal: Signal, limit: int) -> Signal:
    """What takes the place of a signal of `_ENDS` that could not be queued."""
    size = len(signal.payload)
    if size + _SIGNAL_OVERHEAD > limit:
        reason: Term = (Atom("too_large"), size)
    elif signal.kind == "reply":
        reason = Atom("overload")
    else:
        return signal
    return signal._replace(kind=_ENDS[signal.kind], payload=encode(reason))


def _grouped(items: Iterable[_T], cost: Callable[[_T], int], limit: int) -> Iterator[list[_T]]:
    """Groups in order, each as long as its costs stay within the limit, but never empty."""
    group: list[_T] = []
    size = 0
    for item in items:
        added = cost(item)
        if group and size + added > limit:
            yield group
            group, size = [], 0
        group.append(item)
        size += added
    if group:
        yield group
