"""The writing half of a connection: whole frames in their order, and heartbeats in time.

What the pipe takes at once is written at once, in the thread that has it: waking another costs more
than all the rest of a small answer. A thread of its own writes what the pipe has no room for, and
the heartbeats, so that a callback which is slow on the loop does not look to the node like a
program that hangs.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence


class FrameWriter:
    """Writes frames in the order they are given.

    What waits here is bounded by the credit of the peer: the protocol hands on no more.

    Args:
        fd: Where to write; made non-blocking.
        heartbeat: Makes a heartbeat frame; called in the writer's thread.
        failed: Called in the writer's thread, once, when writing fails.
    """

    def __init__(
        self, fd: int, heartbeat: Callable[[], bytes], failed: Callable[[OSError], None]
    ) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._heartbeat = heartbeat
        self._failed = failed
        self._interval: float | None = None
        self._beat_due = 0.0
        self._frames: deque[bytes] = deque()
        # What the pipe did not take of a write: it goes out before anything else.
        self._rest = memoryview(b"")
        self._wake = threading.Condition()
        self._closing = False
        # Whether the thread is in the middle of a write; what is written meanwhile comes after it.
        self._writing = False
        self._writable = select.poll()
        self._writable.register(fd, select.POLLOUT)
        self.frames_sent = 0
        self.bytes_sent = 0
        # Seconds of the writes that are over, and since when there is one: read and written as one.
        self._busy: tuple[float, float | None] = (0.0, None)
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

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames, or queue them; from any thread, and never waiting for the node."""
        with self._wake:
            if self._rest or self._frames or self._writing or self._closing:
                self._frames.extend(frames)
            else:
                self._write_at_once(frames)
            if self._rest or self._frames:
                self._wake.notify()

    def _write_at_once(self, frames: Sequence[bytes]) -> None:
        """Write what the pipe has room for; the thread writes the rest."""
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        try:
            written = os.write(self._fd, data)
        except OSError:
            # No room, or an error that the thread's own write will meet.
            self._frames.extend(frames)
            return
        self.frames_sent += len(frames)
        self.bytes_sent += written
        if written < len(data):
            self._rest = memoryview(data)[written:]

    @property
    def busy_seconds(self) -> float:
        """Seconds that writes have waited for the pipe, the one that waits now included."""
        over, since = self._busy
        return over if since is None else over + time.monotonic() - since

    def close(self, timeout: float) -> bool:
        """Write what is queued, for `timeout` seconds at most, and end the thread.

        Returns:
            Whether it has ended.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (data := self._next()) is not None:
                self._write_whole(data)
                self._writing = False
        except OSError as error:
            self._failed(error)

    def _next(self) -> bytes | memoryview | None:
        with self._wake:
            while True:
                if self._rest:
                    self._writing = True
                    rest, self._rest = self._rest, memoryview(b"")
                    return rest
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

    def _write_whole(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except BlockingIOError:
                self._wait()
                continue
            self.bytes_sent += written
            view = view[written:]

    def _wait(self) -> None:
        over, _ = self._busy
        begun = time.monotonic()
        self._busy = over, begun
        self._writable.poll()
        self._busy = over + time.monotonic() - begun, None


#: Frames are joined up to about this size, bytes: what a pipe holds.
_JOIN = 65536
