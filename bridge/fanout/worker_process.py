"""A worker process as its parent sees it: started, and asked one thing at a time."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from erlang_port.frames import HEADER, MAX_FRAME, FrameError, FrameReader
from erlang_port.messages import Hello, MessageError, decode_message

if TYPE_CHECKING:
    from asyncio.subprocess import Process


class WorkerError(Exception):
    """The worker could not be started, or sent what it should not; it is of no more use."""


class WorkerEndedError(WorkerError):
    """The worker has ended."""


class WorkerProcess:
    """A worker that has been started; make one with `spawn`. To end it is for who did.

    Attributes:
        process: its process.
        pid: its process id.
        ended: done once the link is closed, which is when the worker has ended.
    """

    def __init__(self, process: Process, link: _Link) -> None:
        self.process = process
        self.pid = process.pid
        self.ended = link.ended
        self._link = link

    @classmethod
    async def spawn(cls, memory_limit: int) -> WorkerProcess:
        """Start a worker.

        Args:
            memory_limit: bytes of address space that it may have.

        Raises:
            WorkerError: it could not be started.
        """
        loop = asyncio.get_running_loop()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise WorkerError(f"cannot be started: {error.strerror or error}") from None
        ours.setblocking(False)
        with theirs:
            try:
                # A process of its own program, never a fork of this one. Standard output and error
                # are this program's; the descriptor is the only one that passes.
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-u", "-m", "bridge.fanout.worker"),
                    *(str(theirs.fileno()), str(memory_limit)),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                ours.close()
                raise WorkerError(f"cannot be started: {error.strerror or error}") from None
        _, link = await loop.create_connection(_Link, sock=ours)
        return cls(process, link)

    async def hello(self) -> None:
        """Wait for its first message.

        Raises:
            EtfError: it is no term.
            MessageError: it is no message.
            WorkerEndedError: the worker ended.
        """
        if not isinstance(decode_message(await self._link.next()), Hello):
            raise MessageError("no hello")

    async def ask(self, payload: bytes) -> bytes:
        """Send a message and wait for its answer.

        Args:
            payload: the message, as it goes over the wire.

        Raises:
            WorkerEndedError: the worker ended before it answered.
            WorkerError: it sent what it should not.
        """
        if self._link.unread:
            # Its answers would be taken for those of other questions from here on.
            raise WorkerError("it sent more than it was asked")
        self._link.send(payload)
        return await self._link.next()

    def stopped(self) -> bool:
        """Whether the process is stopped (SIGSTOP), so that its task is not to blame."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return False
        # The state follows the command's name, which may hold anything (proc(5)).
        return stat.rpartition(")")[2].split()[0] == "T"

    def close(self) -> None:
        """Close the link, which a worker that lives takes for its end."""
        self._link.close()


class _Link(asyncio.Protocol):
    """The parent's end of the socketpair."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = FrameReader(MAX_FRAME)
        self._transport: asyncio.Transport | None = None
        self._payload: bytes | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._error: WorkerError = WorkerEndedError("it ended")

    @property
    def unread(self) -> bool:
        """Whether a payload has come that nobody waited for."""
        return self._payload is not None

    async def next(self) -> bytes:
        """Wait for the next payload."""
        if self._payload is not None:
            payload, self._payload = self._payload, None
            return payload
        if self.ended.done():
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def send(self, payload: bytes) -> None:
        """Write one frame; one message is under way at a time, so this is bounded."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(len(payload).to_bytes(HEADER, "big"))
        self._transport.write(payload)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            payloads = self._reader.feed(data)
        except FrameError as error:
            self._broken(f"it sent {error}")
            return
        for payload in payloads:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(payload)
            elif self._payload is None:
                self._payload = payload
            else:
                self._broken("it sent more than it was asked")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.ended.done():
            self.ended.set_result(None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._error)

    def _broken(self, reason: str) -> None:
        self._error = WorkerError(reason)
        self.close()
