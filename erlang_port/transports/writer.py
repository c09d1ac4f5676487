"""The writing half of a connection: a thread that writes whole frames, and heartbeats in time.

A thread, since a pipe that is full blocks its writer, and so that a callback which is slow on the
loop does not look to the node like a program that hangs.
"""

import os
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
        """Queue frames; from any thread."""
        with self._wake:
            self._frames.extend(frames)
            self._wake.notify()

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
        except OSError as error:
            self._failed(error)

    def _next(self) -> bytes | None:
        with self._wake:
            while True:
                now = time.monotonic()
                if self._interval is not None and now >= self._beat_due:
                    self._beat_due = now + self._interval
                    self.frames_sent += 1
                    return self._heartbeat()
                if self._frames:
                    break
                if self._closing:
                    return None
                self._wake.wait(None if self._interval is None else self._beat_due - now)
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
