"""The wire's messages, as docs/protocol.md lists them, and their terms.

Workers import this: nothing here that costs them memory.
"""

from typing import Literal, NamedTuple, TypeAlias

from erlang_port.etf import Atom, Limits, Term, decode, encode

#: The versions of the protocol that this end speaks.
VERSIONS = (1,)
#: The optional parts that this end knows.
CAPABILITIES = (b"batches", b"calls", b"logs", b"processes")

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
ErrorKind: TypeAlias = Literal[
    "overload", "timeout", "noproc", "nodedown", "badarg", "refused", "crash"
]
BatchFailure: TypeAlias = Literal["timeout", "memory", "too_large", "bad_batch", "crash"]

ERROR_KINDS: frozenset[str] = frozenset(
    ("overload", "timeout", "noproc", "nodedown", "badarg", "refused", "crash")
)

_LIMITS = Limits()


class MessageError(ValueError):
    """A term that is none of the wire's messages. Its text never holds the term itself."""


class Hello(NamedTuple):
    """The first frame in each direction: a map with binaries as keys."""

    values: dict[bytes, Term]


class Heartbeat(NamedTuple):
    """A sign of life; how late the sender's main loop was, in milliseconds."""

    seq: int
    lag_ms: int


class Credit(NamedTuple):
    """The receiver of this may send so many bytes more."""

    size: int


class Log(NamedTuple):
    """A line for the node's log."""

    level: Level
    source: bytes
    text: bytes


class Call(NamedTuple):
    """A request that wants an answer within `timeout_ms`."""

    id: int
    name: bytes
    request: Term
    timeout_ms: int


class Cast(NamedTuple):
    """A message that wants no answer."""

    name: bytes
    message: Term


class Reply(NamedTuple):
    """One answer: `ok` or not, and a term of its own in bytes."""

    id: int
    ok: bool
    answer: bytes


class Replies(NamedTuple):
    """Answers, several in a frame."""

    replies: list[Reply]


class Signal(NamedTuple):
    """What passes between a process here and the node: `kind` says what, `payload` is a term.

    `process` is the process's number; `ref` that of a call or a monitor, else 0.
    """

    process: int
    kind: str
    ref: int
    payload: bytes


class Signals(NamedTuple):
    """Signals, several in a frame, each a term of its own in bytes."""

    signals: list[Signal]


class Batch(NamedTuple):
    """Format batch `n` of a broadcast. `payload` is the whole message as it came."""

    broadcast: bytes
    n: int
    body: bytes
    payload: bytes


class BatchDone(NamedTuple):
    """Batch `n`, formatted. `payload` is the whole message as it came."""

    broadcast: bytes
    n: int
    body: bytes
    payload: bytes


class BatchFailed(NamedTuple):
    """Batch `n` could not be formatted; `text` is for the operator."""

    broadcast: bytes
    n: int
    reason: BatchFailure
    text: bytes


class BatchCancel(NamedTuple):
    """Forget what is queued of this broadcast."""

    broadcast: bytes


Message: TypeAlias = (
    Hello
    | Heartbeat
    | Credit
    | Log
    | Call
    | Cast
    | Replies
    | Signals
    | Batch
    | BatchDone
    | BatchFailed
    | BatchCancel
)


class Rule(NamedTuple):
    """A row of the table of messages: size of the tuple, who sends, who receives, credit."""

    arity: int
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    credit: bool


MESSAGES: dict[str, Rule] = {
    "hello": Rule(2, ("node", "program", "worker"), ("program", "node"), credit=False),
    "heartbeat": Rule(3, ("node", "program"), ("program", "node"), credit=False),
    "credit": Rule(2, ("node", "program"), ("program", "node"), credit=False),
    "log": Rule(4, ("program",), ("node",), credit=True),
    "call": Rule(5, ("node", "program"), ("program", "node", "worker"), credit=True),
    "cast": Rule(3, ("node", "program"), ("program", "node"), credit=True),
    "replies": Rule(2, ("node", "program", "worker"), ("program", "node"), credit=True),
    "signals": Rule(2, ("node", "program"), ("program", "node"), credit=True),
    "batch": Rule(4, ("node",), ("program", "worker"), credit=True),
    "batch_done": Rule(4, ("worker",), ("program", "node"), credit=True),
    "batch_failed": Rule(5, ("program", "worker"), ("node",), credit=True),
    "batch_cancel": Rule(2, ("node",), ("program",), credit=True),
}

_FREE = (Hello, Heartbeat, Credit)

_OK, _ERROR = Atom("ok"), Atom("error")
_HELLO, _HEARTBEAT, _CREDIT, _LOG = map(Atom, ("hello", "heartbeat", "credit", "log"))
_CALL, _CAST, _REPLIES, _SIGNALS = map(Atom, ("call", "cast", "replies", "signals"))
_BATCH, _DONE = Atom("batch"), Atom("batch_done")
_FAILED, _CANCEL = Atom("batch_failed"), Atom("batch_cancel")


def costs_credit(message: Message) -> bool:
    """Whether the frame counts against its receiver's credit."""
    return not isinstance(message, _FREE)


def encode_message(message: Message) -> bytes:
    """The message's payload.

    Raises:
        EtfError: A request or message holds what Erlang has no term for.
    """
    if isinstance(message, Batch | BatchDone):
        return message.payload
    return encode(_to_term(message))


def batch_done(broadcast: bytes, n: int, body: bytes) -> BatchDone:
    """A `BatchDone` of its parts."""
    return BatchDone(broadcast, n, body, encode((_DONE, broadcast, n, body)))


def batch(broadcast: bytes, n: int, body: bytes) -> Batch:
    """A `Batch` of its parts."""
    return Batch(broadcast, n, body, encode((_BATCH, broadcast, n, body)))


def _to_term(message: Message) -> Term:  # noqa: C901  # a case for each message
    match message:
        case Hello(values):
            return _HELLO, values
        case Heartbeat(seq, lag_ms):
            return _HEARTBEAT, seq, lag_ms
        case Credit(size):
            return _CREDIT, size
        case Log(level, source, text):
            return _LOG, Atom(level), source, text
        case Call(call_id, name, request, timeout_ms):
            return _CALL, call_id, name, request, timeout_ms
        case Cast(name, content):
            return _CAST, name, content
        case Replies(replies):
            return _REPLIES, [(r.id, _OK if r.ok else _ERROR, r.answer) for r in replies]
        case Signals(signals):
            return _SIGNALS, [(s.process, Atom(s.kind), s.ref, s.payload) for s in signals]
        case BatchFailed(broadcast, n, reason, text):
            return _FAILED, broadcast, n, Atom(reason), text
        case BatchCancel(broadcast):
            return _CANCEL, broadcast
        case Batch() | BatchDone():
            raise AssertionError("a batch keeps its payload")


def decode_message(payload: bytes, *, limits: Limits = _LIMITS) -> Message:
    """The message in a payload.

    Raises:
        EtfError: The payload is no term.
        MessageError: The term is no message of the protocol.
    """
    return _from_term(decode(payload, limits=limits), payload)


def _from_term(term: Term, payload: bytes) -> Message:  # noqa: C901  # a case for each message
    # `true` is an int to Python, and a list looks like a tuple to a pattern: the types are exact.
    if type(term) is not tuple:
        raise MessageError("a term that is no message")
    match term:
        case ("batch", bytes(broadcast), int(n), bytes(body)) if _is_count(n):
            return Batch(broadcast, n, body, payload)
        case ("batch_done", bytes(broadcast), int(n), bytes(body)) if _is_count(n):
            return BatchDone(broadcast, n, body, payload)
        case ("credit", int(size)) if _is_count(size) and size:
            return Credit(size)
        case ("heartbeat", int(seq), int(lag_ms)) if _is_count(seq) and _is_count(lag_ms):
            return Heartbeat(seq, lag_ms)
        case ("call", int(call_id), bytes(name), request, int(timeout_ms)) if (
            type(call_id) is int and _is_count(timeout_ms) and timeout_ms
        ):
            return Call(call_id, name, request, timeout_ms)
        case ("cast", bytes(name), content):
            return Cast(name, content)
        case ("replies", list(items)):
            return Replies([_reply(item) for item in items])
        case ("signals", list(items)):
            return Signals([_signal(item) for item in items])
        case (
            "batch_failed",
            bytes(broadcast),
            int(n),
            ("timeout" | "memory" | "too_large" | "bad_batch" | "crash") as reason,
            bytes(text),
        ) if _is_count(n):
            return BatchFailed(broadcast, n, reason, text)
        case ("batch_cancel", bytes(broadcast)):
            return BatchCancel(broadcast)
        case ("hello", dict(values)):
            return Hello(values)
        case (
            "log",
            ("debug" | "info" | "warning" | "error" | "critical") as level,
            bytes(source),
            bytes(text),
        ):
            return Log(level, source, text)
    raise MessageError(_complaint(term))


def _is_count(value: int) -> bool:
    return type(value) is int and value >= 0


def _reply(item: Term) -> Reply:
    if type(item) is tuple:
        match item:
            case (int(call_id), "ok", bytes(answer)) if type(call_id) is int:
                return Reply(call_id, True, answer)
            case (int(call_id), "error", bytes(answer)) if type(call_id) is int:
                return Reply(call_id, False, answer)
    raise MessageError("an answer in a replies message is not {Id, ok | error, Binary}")


def _signal(item: Term) -> Signal:
    # By far the most frequent item: no pattern, whose checks of the types cost twice as much.
    if type(item) is tuple and len(item) == 4:
        process, kind, ref, payload = item
        if (
            type(process) is int
            and process > 0
            and type(kind) is Atom
            and type(ref) is int
            and ref >= 0
            and type(payload) is bytes
        ):
            return Signal(process, kind, ref, payload)
    raise MessageError("an item of a signals message is not {Process, Kind, Ref, Binary}")


def _complaint(term: Term) -> str:
    match term:
        case (Atom() as tag, *_) if tag in MESSAGES:
            return f"a {tag} message is not as the protocol says"
        case (Atom() as tag, *_):
            return f"a message with the unknown tag {str(tag)[:40]!r}"
    return "a term that is no message"


def error_answer(kind: ErrorKind, text: str) -> bytes:
    """The answer of a call that failed, `{Kind, Text}`."""
    return encode((Atom(kind), text))
