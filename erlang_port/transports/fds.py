"""The connection to a node over file descriptors: the asyncio shell around `Protocol`."""

import asyncio
import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple

from erlang_port.etf import Atom, EtfError, Term, decode, encode
from erlang_port.frames import frame
from erlang_port.messages import (
    ERROR_KINDS,
    Batch,
    BatchCancel,
    Cast,
    Level,
    Log,
    Reply,
    Signal,
    Signals,
)
from erlang_port.protocol import (
    Answered,
    Called,
    Discarded,
    Event,
    Greeted,
    Overload,
    Peer,
    Protocol,
    ProtocolError,
)
from erlang_port.transports.calls import CallError, Handler, IncomingCalls
from erlang_port.transports.loop_lag import INTERVAL, LoopLag
from erlang_port.transports.writer import FrameWriter

__all__ = ["CallError", "Disconnected", "Handler", "PortConnection", "Statistics"]

_log = logging.getLogger(__name__)

#: Bytes of one read: what a pipe holds. From 128 KiB on, malloc would map memory for each.
_READ = 64 * 1024
#: A loop later than this hangs, seconds: without heartbeats the node ends the program.
MAX_LAG = 60.0
#: Log lines that wait while the protocol is in use by somebody else.
_MAX_LINES = 1024


class Disconnected(ConnectionError):  # noqa: N818  # a state of the port, in the protocol's word
    """The connection to the node is over, or not there yet."""


class Statistics(NamedTuple):
    """What the connection has done so far. Sizes in bytes, times in seconds."""

    frames_received: int
    bytes_received: int
    frames_sent: int
    bytes_sent: int
    credit: int
    queued: int
    calls_waiting: int
    calls_handled: int
    discarded: int
    undecoded: int
    logs_dropped: int
    heartbeat_age: float
    loop_lag: float
    busy: float


class _Totals(NamedTuple):
    """What only grows, over all connections."""

    frames_received: int
    bytes_received: int
    frames_sent: int
    bytes_sent: int
    busy: float


_NOTHING = _Totals(0, 0, 0, 0, 0.0)


class Liveness(NamedTuple):
    """How often an end says that it lives, and how long a silence is death. Seconds."""

    interval: float
    timeout: float


class PortConnection:
    """The program's end of the port, or of one socket after another.

    Args:
        name: What this end calls itself.
        version: Megaphone's version.

    Attributes:
        on_batch: Called with each batch, on the loop; must not wait.
        on_batch_cancel: Called with the broadcast whose batches are no longer wanted.
        on_signals: Called with the signals of a frame, on the loop; must not wait.
        undecoded: Frames and terms of the node that nobody could decode; who finds one counts it.
    """

    def __init__(self, *, name: str, version: str) -> None:
        self.on_batch: Callable[[Batch], None] = lambda _: None
        self.on_batch_cancel: Callable[[bytes], None] = lambda _: None
        self.on_signals: Callable[[Sequence[Signal]], None] = lambda _: None
        self.undecoded = 0
        self._name = name
        self._version = version
        self._protocol = self._new_protocol(None)
        # Log lines come from other threads: the protocol is touched under the lock only.
        self._lock = threading.Lock()
        self._exclusive = _Exclusive(self._enter, self._leave)
        self._lines: deque[Log] = deque()
        self._calls = IncomingCalls(self._queue_answer)
        self._waiting: dict[int, asyncio.Future[Answered]] = {}
        self._answers: list[Reply] = []
        self._discarded = 0
        self._logs_dropped = 0
        self._logs_reported = 0
        self._heard = self._awake = time.monotonic()
        self._lag = LoopLag(self._heard)
        self._sequence = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._writer: FrameWriter | None = None
        self._open = False
        # What earlier connections have done.
        self._before = _NOTHING

    async def connect(self, read_fd: int, write_fd: int, timeout: float = 10.0) -> Peer:  # noqa: ASYNC109  # one wait, one bound
        """Exchange hellos; from then on everything may be used.

        Args:
            read_fd: Where the node's bytes come from.
            write_fd: Where the node's bytes go to.
            timeout: How long to wait for the node's hello, seconds.

        Raises:
            Disconnected: The node closed the port, spoke another protocol, or said nothing.
        """
        self._begin(read_fd, write_fd, self._new_protocol(None))
        try:
            async with asyncio.timeout(timeout):
                peer = await self._hello()
        except TimeoutError:
            self._close(f"the node sent no hello within {timeout:g} s")
            raise Disconnected(self._closed.result()) from None
        self._beat(peer.heartbeat_interval)
        return peer

    async def stand_by(self, fd: int, liveness: Liveness, after_epoch: int) -> Peer:
        """Wait on a socket for the node's hello, for as long as the node lives; as `connect` then.

        Args:
            fd: The socket.
            liveness: What the node told in the handshake.
            after_epoch: The highest epoch that was seen so far: a hello has a higher one.

        Raises:
            Disconnected: As for `connect`.
        """
        self._begin(fd, fd, self._new_protocol(after_epoch))
        self._liveness = liveness
        self._beat(liveness.interval)
        return await self._hello()

    def _new_protocol(self, after_epoch: int | None) -> Protocol:
        return Protocol(
            name=self._name, version=self._version, os_pid=os.getpid(), after_epoch=after_epoch
        )

    def _begin(self, read_fd: int, write_fd: int, protocol: Protocol) -> None:
        self._loop = asyncio.get_running_loop()
        self._before = self._totals()
        self._read_fd = read_fd
        with self._lock:
            self._protocol = protocol
        self._lines.clear()
        self._answers.clear()
        self._greeted: asyncio.Future[Peer] = self._loop.create_future()
        self._closed: asyncio.Future[str] = self._loop.create_future()
        failed = partial(self._write_failed, self._closed)
        self._writer = writer = FrameWriter(write_fd, self._heartbeat, failed)
        writer.start()
        os.set_blocking(read_fd, False)
        self._unread = select.poll()
        self._unread.register(read_fd, select.POLLIN)
        self._heard = time.monotonic()
        self._open = True
        self._loop.add_reader(read_fd, self._readable)

    def _beat(self, interval: float) -> None:
        self._lag.restart(time.monotonic())
        if self._writer is not None:
            self._writer.beat(interval)
        self._tick()

    async def _hello(self) -> Peer:
        first: set[asyncio.Future[Peer] | asyncio.Future[str]]
        first = {self._greeted, self._closed}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if self._closed.done():
            raise Disconnected(self._closed.result())
        peer = self._greeted.result()
        self._liveness = Liveness(peer.heartbeat_interval, peer.heartbeat_timeout)
        return peer

    @property
    def connected(self) -> bool:
        """Whether hellos were exchanged and the connection is not over."""
        return self._open and self._greeted.done()

    async def closed(self) -> str:
        """Wait for the end of the connection; why it ended."""
        return await asyncio.shield(self._closed)

    async def close(self, reason: str = "closed") -> bool:
        """End the connection; what is queued goes out first, for a second at most.

        Returns:
            Whether nobody uses the descriptors any more; else a thread still waits for room there.
        """
        self._calls.cancel()
        self._close(reason)
        return self._writer is None or await asyncio.to_thread(self._writer.close, 1.0)

    def register(self, name: str, handler: Handler) -> None:
        """Answer the node's calls to `name`.

        The handler takes the request and returns the answer; at the call's deadline it is
        cancelled, and not begun at all when that has passed. To refuse, it raises `CallError`; any
        other exception is logged, and is a crash to the caller.
        """
        self._calls.register(name.encode(), handler)

    async def call(self, name: str, request: Term, timeout: float) -> Term:  # noqa: ASYNC109  # it travels
        """Call a name at the node.

        Args:
            name: The name.
            request: What to ask.
            timeout: How long to wait, seconds; the node is told.

        Raises:
            CallError: The node answered with an error, or what it answered is no term.
            Disconnected: There is no connection, or it ended meanwhile.
            EtfError: Erlang has no term for the request.
            TimeoutError: No answer in time.
        """
        if not self.connected:
            raise Disconnected("there is no connection to the node")
        try:
            with self._exclusive as protocol:
                call_id = protocol.call(name.encode(), request, int(timeout * 1000))
        except Overload as error:
            raise CallError("overload", str(error)) from None
        future: asyncio.Future[Answered] = self._loop.create_future()
        # Answers are read on this loop: none can have come yet.
        self._waiting[call_id] = future
        try:
            async with asyncio.timeout(timeout):
                answered = await future
        finally:
            self._waiting.pop(call_id, None)
        try:
            return _open_answer(answered)
        except EtfError as error:
            self.undecoded += 1
            raise CallError("badarg", f"the answer is no term: {error}") from None

    def cast(self, name: str, message: Term) -> None:
        """Send a message to a name at the node; lost when there is no connection or no room."""
        if self.connected:
            with contextlib.suppress(Overload), self._exclusive as protocol:
                protocol.send(Cast(name.encode(), message))

    def send_signals(self, signals: Sequence[Signal]) -> Sequence[Signal]:
        """Send signals, in as few frames as hold them; nothing when there is no connection.

        Returns:
            Those that are lost; see `erlang_port.protocol.Protocol.signal`.
        """
        if not self.connected:
            return ()
        with self._exclusive as protocol:
            return protocol.signal(signals)

    def send_batch_answer(self, payload: bytes) -> None:
        """Send a `batch_done` or `batch_failed` on; nothing when there is no connection.

        Raises:
            Overload: The message is longer than a frame.
        """
        if self.connected:
            with self._exclusive as protocol:
                protocol.send_batch_answer(payload)

    def log(self, level: Level, source: str, text: str) -> None:
        """Send a line to the node's log. Dropped and counted without room.

        It may be called in any thread and at any point, in a finaliser too, and never waits.
        """
        if not self.connected or (peer := self._protocol.peer) is None:
            return
        if b"logs" not in peer.capabilities:
            return
        if len(self._lines) >= _MAX_LINES:
            self._logs_dropped += 1
            return
        self._lines.append(
            Log(level, source.encode(errors="replace"), text.encode(errors="replace"))
        )
        self._send_lines()

    def statistics(self) -> Statistics:
        """The figures so far."""
        protocol, now, totals = self._protocol, time.monotonic(), self._totals()
        return Statistics(
            frames_received=totals.frames_received,
            bytes_received=totals.bytes_received,
            frames_sent=totals.frames_sent,
            bytes_sent=totals.bytes_sent,
            credit=protocol.credit,
            queued=protocol.queued_bytes,
            calls_waiting=len(self._waiting),
            calls_handled=len(self._calls),
            discarded=self._discarded,
            undecoded=self.undecoded,
            logs_dropped=self._logs_dropped,
            heartbeat_age=now - self._heard,
            # Without a connection nobody looks.
            loop_lag=self._lag.worst(now) if self._open else 0.0,
            busy=totals.busy,
        )

    def _totals(self) -> _Totals:
        before, protocol, writer = self._before, self._protocol, self._writer
        if writer is None:
            return before
        return _Totals(
            before.frames_received + protocol.frames_received,
            before.bytes_received + protocol.bytes_received,
            before.frames_sent + writer.frames_sent,
            before.bytes_sent + writer.bytes_sent,
            before.busy + writer.busy_seconds,
        )

    # Reading.

    def _readable(self) -> None:
        try:
            data = os.read(self._read_fd, _READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._close(f"reading from the node failed: {error.strerror}")
            return
        if not data:
            self._close("the node closed the port")
            return
        self._heard = time.monotonic()
        try:
            with self._exclusive as protocol:
                events = protocol.receive_data(data)
            for event in events:
                self._handle(event)
        except ProtocolError as error:
            self._close(str(error))
            return
        except Exception:
            # What was read with it may be lost now. The node holds it, and asks a new program.
            self._close("what the node sent could not be handed on")
            raise
        if self._protocol.owes_credit:
            with self._exclusive as protocol:
                protocol.handed_on()

    def _handle(self, event: Event) -> None:  # noqa: C901  # a case for each event
        match event:
            case Batch():
                self.on_batch(event)
            case Answered(call_id):
                waiting = self._waiting.get(call_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(event)
            case Called(call, size):
                self._calls.take(call, size)
            case BatchCancel(broadcast):
                self.on_batch_cancel(broadcast)
            case Greeted(peer):
                if not self._greeted.done():
                    self._greeted.set_result(peer)
            case Cast():
                # No name takes casts yet.
                self._discard("a cast to a name that is not registered")
            case Signals(signals):
                self.on_signals(signals)
            case Discarded(reason, decoded):
                self.undecoded += not decoded
                self._discard(reason)

    def _discard(self, reason: str) -> None:
        self._discarded += 1
        _log.warning("a frame from the node was dropped: %s", reason)

    def _queue_answer(self, reply: Reply) -> None:
        # Answers of one turn of the loop go in one frame.
        if not self._answers:
            self._loop.call_soon(self._send_answers)
        self._answers.append(reply)

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        if not self.connected:
            return
        try:
            with self._exclusive as protocol:
                protocol.reply(answers)
        except Overload as error:
            _log.warning("answers to the node were dropped: %s", error)

    # Writing, liveness, the end.

    def _enter(self) -> Protocol:
        self._lock.acquire()
        self._take_lines()
        return self._protocol

    def _leave(self) -> None:
        try:
            self._hand_over()
        finally:
            self._lock.release()
            self._send_lines()

    def _send_lines(self) -> None:
        # A finaliser may log in the middle of anything, in a thread that has the lock. So this
        # never waits for it: whoever has it comes here once he has let go.
        while self._lines and self._lock.acquire(blocking=False):
            try:
                self._take_lines()
                self._hand_over()
            finally:
                self._lock.release()

    def _take_lines(self) -> None:
        for _ in range(len(self._lines)):
            try:
                self._protocol.send(self._lines.popleft())
            except Overload:
                self._logs_dropped += 1

    def _hand_over(self) -> None:
        frames = self._protocol.data_to_send()
        if frames and self._writer is not None:
            self._writer.write(frames)

    def _heartbeat(self) -> bytes:
        late = self._lag.late(time.monotonic())
        if late > MAX_LAG:
            return b""
        self._sequence += 1
        return frame(encode((Atom("heartbeat"), self._sequence, int(late * 1000))))

    def _write_failed(self, connection: asyncio.Future[str], error: OSError) -> None:
        reason = f"writing to the node failed: {error.strerror}"
        try:
            self._loop.call_soon_threadsafe(self._close, reason, connection)
        except RuntimeError:
            # The loop is closed already: the program is ending.
            return

    def _tick(self) -> None:
        if not self._open:
            return
        now = time.monotonic()
        liveness = self._liveness
        if self._lag.look(now) > liveness.interval:
            # This end was held up, and the node perhaps with it: its silence counts from here.
            self._awake = now
        # A loop that was blocked itself has not yet read what came meanwhile.
        unread = bool(self._unread.poll(0))
        if not unread and now - max(self._heard, self._awake) > liveness.timeout:
            self._close(f"the node was silent for {liveness.timeout:g} s")
            return
        if self._logs_dropped > self._logs_reported:
            lost = self._logs_dropped - self._logs_reported
            self._logs_reported = self._logs_dropped
            self.log("warning", "port", f"{lost} log lines were dropped: the node took no more")
        self._ticking = self._loop.call_later(INTERVAL, self._tick)

    def _close(self, reason: str, connection: asyncio.Future[str] | None = None) -> None:
        """End the connection that there is; `connection`: only if it is still that one."""
        if not self._open or connection not in {None, self._closed}:
            return
        self._open = False
        self._loop.remove_reader(self._read_fd)
        if self._ticking is not None:
            self._ticking.cancel()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Disconnected(reason))
        self._closed.set_result(reason)


class _Exclusive:
    """The protocol, for one user; what it lets out goes to the writer before the next one.

    Entered for every frame: a generator would cost as much as the frame's term.
    """

    __slots__ = ("_enter", "_leave")

    def __init__(self, enter: Callable[[], Protocol], leave: Callable[[], None]) -> None:
        self._enter = enter
        self._leave = leave

    def __enter__(self) -> Protocol:
        return self._enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()


def _open_answer(answered: Answered) -> Term:
    term = decode(answered.answer)
    if answered.ok:
        return term
    match term:
        case (str(kind), bytes(text)) if kind in ERROR_KINDS:
            raise CallError(kind, text.decode(errors="replace"))  # type: ignore[arg-type]  # just checked
    raise CallError("badarg", "the answer is no error of this protocol")
