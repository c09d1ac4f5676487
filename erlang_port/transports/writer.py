"""The writing half of a connection: a thread that writes whole frames, and heartbeats in time.

A thread, since a pipe that is full blocks its writer, and so that a callback which is slow on the
loop does not look to the node like a program that hangs. What the pipe takes at once is written at
once: waking the thread costs more than all the rest of a small answer.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable


class FrameWriter:
    """Writes frames in the order they are given.

    What waits here is bounded by the credit of the peer: the protocol hands on no more.

    Args:
        fd: Where to write; made blocking.
        heartbeat: Makes a heartbeat frame; called in the writer's thread.
        failed: Called in the writer's thread, once, when writing fails.
    """

    def __init__(
        self, fd: int, heartbeat: Callable[[], bytes], failed: Callable[[OSError], None]
    ) -> None:
        os.set_blocking(fd, True)
        self._fd = fd
        self._heartbeat = heartbeat
        self._failed = failed
        self._interval: float | None = None
        self._beat_due = 0.0
        self._frames: deque[bytes] = deque()
        self._wake = threading.Condition()
        self._closing = False
        # Whether the thread is in the middle of a write; what is written meanwhile comes after it.
        self._writing = False
        self._writable = select.poll()
        self._writable.register(fd, select.POLLOUT)
        self.frames_sent = 0
        self.bytes_sent = 0
        self._thread = threading.Thread(target=self._run, name="port-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def beat(self, interval: float) -> None:
        """Send a heartbeat every `interval` seconds from now on, before what is queued."""
        with self._wake:
            self._interval = interval
            self._beat_due = time.monotonic() + interval
            self._wake.notify()

    def write(self, frames: Iterable[bytes]) -> None:
        """Write frames, or queue them; from any thread, and never waiting for the node."""
        with self._wake:
            if not self._frames and not self._writing and not self._closing:
                frames = self._write_at_once(list(frames))
            self._frames.extend(frames)
            if self._frames:
                self._wake.notify()

    def _write_at_once(self, frames: list[bytes]) -> list[bytes]:
        """Write frames if that cannot block (pipe(7): PIPE_BUF); those that were not written."""
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if len(data) > select.PIPE_BUF or self._thread.ident is None:
            return frames
        try:
            if self._writable.poll(0) != [(self._fd, select.POLLOUT)]:
                return frames
            written = os.write(self._fd, data)
        except OSError:
            # The thread's own write will say so.
            return frames
        self.frames_sent += len(frames)
        self.bytes_sent += written
        # A pipe takes all of it; what it did not take comes first, whatever it was.
        return [data[written:]] if written < len(data) else []

    def close(self, timeout: float) -> None:
        """Write what is queued, for `timeout` seconds at most, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (data := self._next()) is not None:
                self._write_whole(data)
                self._writing = False
        except OSError as error:
            self._failed(error)

    def _next(self) -> bytes | None:
        with self._wake:
            while True:
                now = time.monotonic()
                if self._interval is not None and now >= self._beat_due:
                    self._beat_due = now + self._interval
                    self.frames_sent += 1
                    self._writing = True
                    return self._heartbeat()
                if self._frames:
                    break
                if self._closing:
                    return None
                self._wake.wait(None if self._interval is None else self._beat_due - now)
            self._writing = True
            # Small frames are joined, so that a thousand answers are not a thousand writes.
            data = self._frames.popleft()
            self.frames_sent += 1
            if self._frames and len(data) < _JOIN:
                parts = [data]
                size = len(data)
                while self._frames and size < _JOIN:
                    parts.append(self._frames.popleft())
                    size += len(parts[-1])
                    self.frames_sent += 1
                data = b"".join(parts)
            return data

    def _write_whole(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.bytes_sent += written
            view = view[written:]


#: Frames are joined up to about this size, bytes: what a pipe holds.
_JOIN = 65536
