"""A worker process as its parent sees it: started, asked one thing at a time, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from erlang_port.etf import EtfError
from erlang_port.frames import HEADER, MAX_FRAME, FrameError, FrameReader
from erlang_port.messages import Hello, MessageError, decode_message

if TYPE_CHECKING:
    from asyncio.subprocess import Process

#: Seconds from starting a worker to its hello.
START_TIMEOUT: Final = 15.0


class WorkerError(Exception):
    """The worker ended, or sent what it should not; it is of no more use."""


class WorkerProcess:
    """A running worker; make one with `start`.

    Attributes:
        pid: its process id.
        ended: done once the link is closed, which is when the worker has ended.
    """

    def __init__(self, process: Process, link: _Link) -> None:
        self.pid = process.pid
        self.ended = link.ended
        self._process = process
        self._link = link
        try:
            self._pidfd: int | None = os.pidfd_open(process.pid)
        except OSError:
            # It is gone already, or there are no descriptors left.
            self._pidfd = None

    @classmethod
    async def start(cls, memory_limit: int) -> WorkerProcess:
        """Start a worker and wait for its hello.

        Args:
            memory_limit: bytes of address space that it may have.

        Raises:
            WorkerError: it could not be started, or did not say hello in time.
        """
        spawning = asyncio.ensure_future(cls._spawn(memory_limit))
        try:
            worker = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            with contextlib.suppress(WorkerError):
                await (await spawning).end()
            raise
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await worker.hello()
        except TimeoutError:
            await worker.end()
            raise WorkerError(f"said no hello within {START_TIMEOUT:g} s") from None
        except (WorkerError, EtfError, MessageError) as error:
            status = await worker.end()
            raise WorkerError(f"{error} (exit status {status})") from None
        except asyncio.CancelledError:
            await worker.end()
            raise
        return worker

    @classmethod
    async def _spawn(cls, memory_limit: int) -> WorkerProcess:
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
            WorkerError: it is no hello, or the worker ended.
        """
        if not isinstance(decode_message(await self._link.next()), Hello):
            raise WorkerError("its first message is no hello")

    async def ask(self, payload: bytes) -> bytes:
        """Send a message and wait for its answer.

        Args:
            payload: the message, as it goes over the wire.

        Raises:
            WorkerError: the worker ended before it answered.
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

    def kill(self) -> None:
        """Kill the process (SIGKILL): it may be stopped, or deep in one long computation."""
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif self._process.returncode is None:
                # It may reap the child before asyncio's watcher does, and lose its exit status.
                self._process.kill()

    async def end(self) -> int:
        """Kill the process and wait until it is gone, cancelled or not; its exit status."""
        self._link.close()
        self.kill()
        waiting = asyncio.ensure_future(self._process.wait())
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await waiting
            raise
        finally:
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None


class _Link(asyncio.Protocol):
    """The parent's end of the socketpair."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = FrameReader(MAX_FRAME)
        self._transport: asyncio.Transport | None = None
        self._payload: bytes | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._error = "it ended"

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
            raise WorkerError(self._error)
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
            self._waiter.set_exception(WorkerError(self._error))

    def _broken(self, reason: str) -> None:
        self._error = reason
        self.close()
