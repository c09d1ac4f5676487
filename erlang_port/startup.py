"""The port program's first acts: its descriptors, its output, its parent's death.

Standard library only, and imported before anything else, so that whatever a later import prints or
raises finds the port already out of its reach.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, NoReturn

#: Where Erlang puts the port's descriptors with `nouse_stdio` (erlang:open_port/2).
_READ_FD, _WRITE_FD = 3, 4
#: The port's descriptors are moved to this one or above.
_FIRST_FREE = 64
#: Bytes of a captured line; the rest of it is cut off.
MAX_LINE = 4096
#: Bytes of output that are kept until somebody takes them.
MAX_KEPT = 64 * 1024
#: Bytes of output passed on at once, and for each second after that.
BURST, RATE = 256 * 1024, 64 * 1024

_PR_SET_PDEATHSIG = 1

Level = Literal["info", "warning"]
Sink = Callable[[Level, str, str], None]


class NotAPort(RuntimeError):  # noqa: N818  # says what the program is not started as
    """Descriptors 3 and 4 are not open: the program was not started by a node."""


def claim_port() -> tuple[int, int]:
    """Move the port's descriptors out of reach: high, and not inherited by any child.

    They arrive as 3 and 4 and inheritable. A child that kept them would hide this program's death
    from the node.

    Returns:
        The descriptors to read from and to write to.

    Raises:
        NotAPort: There are none.
    """
    try:
        read_fd = fcntl.fcntl(_READ_FD, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
        write_fd = fcntl.fcntl(_WRITE_FD, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    except OSError:
        raise NotAPort("descriptors 3 and 4 are not open: an Erlang node starts this") from None
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # Not left free, so that nothing opened later becomes a 3 or 4 that somebody takes for the port.
    for fd in (_READ_FD, _WRITE_FD):
        os.dup2(null, fd, inheritable=False)
    os.dup2(null, 0)
    os.close(null)
    return read_fd, write_fd


def claim_environment() -> None:
    """Drop what is the node's own: its service manager's variables, and ignored signals.

    Erlang leaves SIGPIPE and SIGFPE ignored in what it starts.
    """
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGFPE, signal.SIG_DFL)
    # Ignored is what Python wants of SIGPIPE: a write then raises BrokenPipeError.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG).

    End of file is the ordinary signal; a stopped process cannot see that. Call it in the main
    thread of a process that its parent's main thread started.
    """
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        # The parent died before the kernel knew.
        _exit_now()


def _exit_now() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


def _open_if_closed(fd: int) -> None:
    # Else the pipe itself could become that descriptor.
    try:
        os.fstat(fd)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != fd:
            os.dup2(null, fd)
            os.close(null)


class OutputCapture:
    """Everything that is written to descriptors 1 and 2, as lines for the node's log.

    Two threads drain two pipes: whoever prints, a C library and child processes included, is never
    held up by the event loop. A flood is cut: beyond the rate lines are dropped and counted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[tuple[Level, str, str]] = deque()
        self._kept_bytes = 0
        self._sink: Sink | None = None
        self._stopping = threading.Event()
        self._originals: dict[int, int] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Put pipes in the place of descriptors 1 and 2."""
        # First: a stream that began on a file or /dev/null would ask a pipe for its position.
        for text in (sys.stdout, sys.stderr):
            reconfigure = getattr(text, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        for fd, level, source in ((1, "info", "stdout"), (2, "warning", "stderr")):
            _open_if_closed(fd)
            self._originals[fd] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
            read_fd, write_fd = os.pipe()
            os.dup2(write_fd, fd)
            os.close(write_fd)
            stream = _Stream(read_fd, "info" if level == "info" else "warning", source, self._take)
            thread = threading.Thread(
                target=stream.drain, args=(self._stopping,), name=f"drain-{source}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def attach(self, sink: Sink) -> None:
        """Pass lines on, those kept so far first."""
        with self._lock:
            self._sink = sink
            kept, self._kept = self._kept, deque()
            for line in kept:
                sink(*line)

    def stop(self, timeout: float = 0.5) -> None:
        """Pass on what was written so far, waiting `timeout` seconds at most for each stream.

        Descriptors 1 and 2 are then what they were before `start`: nobody drains pipes any more.
        What no sink has taken is written to descriptor 2: it may say why there never was one.
        """
        for text in (sys.stdout, sys.stderr):
            if text is not None:
                text.flush()
        while self._originals:
            fd, original = self._originals.popitem()
            os.dup2(original, fd)
            os.close(original)
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)
        with self._lock:
            kept, self._kept = self._kept, deque()
        with contextlib.suppress(OSError), open(2, "wb", closefd=False) as stderr:
            for _, _, text in kept:
                stderr.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def _take(self, level: Level, source: str, text: str) -> None:
        with self._lock:
            if self._sink is not None:
                self._sink(level, source, text)
                return
            self._kept.append((level, source, text))
            self._kept_bytes += len(text)
            while self._kept_bytes > MAX_KEPT:
                self._kept_bytes -= len(self._kept.popleft()[2])


class _Stream:
    """One of the two pipes: bytes to lines, within the rate."""

    def __init__(self, fd: int, level: Level, source: str, take: Sink) -> None:
        self._fd = fd
        self._level = level
        self._source = source
        self._take = take
        self._partial = b""
        self._overlong = False
        self._allowance = float(BURST)
        self._refilled = time.monotonic()
        self._reported = self._refilled
        self._dropped_lines = 0
        self._dropped_bytes = 0

    def drain(self, stopping: threading.Event) -> None:
        os.set_blocking(self._fd, False)
        while True:
            ready, _, _ = select.select([self._fd], [], [], 0.2)
            if not ready:
                self._report()
                if stopping.is_set():
                    break
                continue
            data = os.read(self._fd, 65536)
            if not data:
                break
            self._feed(data)
            if time.monotonic() - self._reported >= 1.0:
                self._report()
        if self._partial and not self._overlong:
            self._line(self._partial)
        self._report()

    def _feed(self, data: bytes) -> None:
        *lines, partial = (self._partial + data).split(b"\n")
        for line in lines:
            if self._overlong:
                # The end of a line of which the beginning was passed on.
                self._overlong = False
            else:
                self._line(line)
        if len(partial) > MAX_LINE:
            if not self._overlong:
                self._line(partial)
            self._overlong = True
            partial = b""
        self._partial = partial

    def _line(self, line: bytes) -> None:
        now = time.monotonic()
        self._allowance = min(float(BURST), self._allowance + (now - self._refilled) * RATE)
        self._refilled = now
        cost = min(len(line), MAX_LINE) + 64
        if cost > self._allowance:
            self._dropped_lines += 1
            self._dropped_bytes += len(line)
            return
        self._allowance -= cost
        text = line[:MAX_LINE].decode("utf-8", "backslashreplace").rstrip("\r")
        if text:
            self._take(self._level, self._source, text)

    def _report(self) -> None:
        self._reported = time.monotonic()
        if self._dropped_lines:
            lines, size = self._dropped_lines, self._dropped_bytes
            self._dropped_lines = self._dropped_bytes = 0
            text = f"{lines} lines ({size} bytes) of {self._source} were dropped: too much output"
            self._take("warning", self._source, text)
