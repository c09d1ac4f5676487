"""The node's end of the port, in Python: starts a port program and talks to it.

It shows what the port program does alone; the tests with a real node are in tests/e2e.
"""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from erlang_port.etf import Atom, Term, decode, encode
from erlang_port.frames import MAX_FRAME, FrameReader, frame
from erlang_port.messages import (
    BatchDone,
    BatchFailed,
    Call,
    Credit,
    Heartbeat,
    Hello,
    Log,
    Message,
    Replies,
    Reply,
    decode_message,
    encode_message,
)
from tests.bridge.waiting import until

_PLACE = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4);"
    "os.close(r); os.close(w); os.execv(sys.executable, [sys.executable, *sys.argv[3:]])"
)


class NodeStub(asyncio.Protocol):
    """A node that answers `status` and `metrics`, and is never silent."""

    def __init__(self) -> None:
        self.hello: dict[bytes, Term] | None = None
        self.logs: list[tuple[str, str, str]] = []
        self.answers: list[BatchDone | BatchFailed] = []
        self.heartbeats = 0
        self.status_asked = 0
        self.status: Term = {b"node": {b"name": b"stub@localhost"}, b"port": {}, b"broadcasts": []}
        self.metrics: Term = {}
        self.closed = False
        self._replies: dict[int, Reply] = {}
        self._reader = FrameReader(MAX_FRAME)
        self._next_id = 0

    async def start(
        self,
        *,
        program: tuple[str, ...] = ("-m", "bridge.port_program"),
        stderr: int | None = None,
        **environment: str,
    ) -> None:
        loop = asyncio.get_running_loop()
        their_read, our_write = os.pipe()
        our_read, their_write = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in (their_read, their_write)]
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-c", _PLACE, *map(str, high)),
            *("-I", "-u", *program),
            pass_fds=high,
            stderr=stderr,
            env={**os.environ, "MEGAPHONE_HTTP__PORT": "0", **environment},
            process_group=0,
        )
        for fd in (their_read, their_write, *high):
            os.close(fd)
        self._reading, _ = await loop.connect_read_pipe(
            lambda: self, os.fdopen(our_read, "rb", buffering=0)
        )
        self._writing, _ = await loop.connect_write_pipe(
            asyncio.Protocol, os.fdopen(our_write, "wb", buffering=0)
        )
        self._beating = asyncio.create_task(self._beat())

    async def greet(self, **changes: Term) -> None:
        values = {
            "protocol": [1],
            "capabilities": [b"calls", b"batches", b"logs"],
            "max_frame": MAX_FRAME,
            "credit": 16 * MAX_FRAME,
            "heartbeat_interval": 200,
            "heartbeat_timeout": 10_000,
            "version": b"0",
            "name": b"stub@localhost",
        } | changes
        self.send(Hello({name.encode(): value for name, value in values.items()}))
        await until(lambda: self.hello is not None)

    def send(self, message: Message) -> None:
        self._writing.write(frame(encode_message(message)))

    def write(self, data: bytes) -> None:
        self._writing.write(data)

    async def call(self, name: bytes, request: Term, timeout: float = 20.0) -> Term:
        self._next_id += 1
        call_id = self._next_id
        self.send(Call(call_id, name, request, int(timeout * 1000)))
        await until(lambda: call_id in self._replies)
        reply = self._replies.pop(call_id)
        return reply.ok, decode(reply.answer)

    async def own_status(self) -> dict[bytes, Any]:
        ok, answer = await self.call(b"bridge", Atom("status"))
        assert ok
        return answer[b"bridge"]

    async def url(self) -> str:
        """Where HTTP listens, once it does."""
        return (await self._status_once(lambda status: status[b"http"]))[b"http"].decode()

    async def worker(self) -> int:
        """The pid of the one worker, once it is idle."""
        (worker,) = (await self.workers_are(b"idle"))[b"workers"]
        return worker[b"pid"]

    async def workers_are(self, state: bytes) -> dict[bytes, Any]:
        """The bridge's status, once all workers are in a state."""
        return await self._status_once(
            lambda status: {worker[b"state"] for worker in status[b"workers"]} == {state}
        )

    async def _status_once(
        self, condition: Callable[[dict[bytes, Any]], object]
    ) -> dict[bytes, Any]:
        async with asyncio.timeout(20):
            while not condition(status := await self.own_status()):  # noqa: ASYNC110 - asked over
                await asyncio.sleep(0.01)
        return status

    def hang_up(self) -> None:
        """Close the port, as a node that ends does."""
        self._writing.close()
        self._reading.close()

    async def end(self) -> None:
        self._beating.cancel()
        self.hang_up()
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    async def _beat(self) -> None:
        sequence = 0
        while True:
            await asyncio.sleep(0.2)
            if self.hello is not None and not self._writing.is_closing():
                sequence += 1
                self.send(Heartbeat(sequence, 0))

    def data_received(self, data: bytes) -> None:
        for payload in self._reader.feed(data):
            self._received(decode_message(payload), len(payload))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True

    def _received(self, message: Message, size: int) -> None:
        match message:
            case Hello(values):
                self.hello = values
            case Heartbeat():
                self.heartbeats += 1
            case Log(level, source, text):
                self.logs.append((level, source.decode(), text.decode()))
            case BatchDone() | BatchFailed():
                self.answers.append(message)
            case Replies(replies):
                self._replies |= {reply.id: reply for reply in replies}
            case Call(call_id, b"node", "status"):
                self.status_asked += 1
                self.send(Replies([Reply(call_id, True, encode(self.status))]))
            case Call(call_id, b"node", "metrics" | ("metrics", "detailed")):
                self.send(Replies([Reply(call_id, True, encode(self.metrics))]))
            case Credit():
                return
        if not isinstance(message, Hello | Heartbeat):
            self.send(Credit(size + 4))
