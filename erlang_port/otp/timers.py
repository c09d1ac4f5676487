"""Timers that send a message: those of OTP's module `erlang` (erlang(3), "send_after/4").

Times are in seconds: how long from now, or, absolute, a point in time as `time.monotonic` has it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen
from erlang_port.otp.process import Process, Reference

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT: Final = Atom("timeout")


class Timer(Reference):
    """A running timer; one for a process ends with it."""

    __slots__ = ("_handle", "_message", "_process", "_server")

    def __init__(
        self, time: float, server: Term, message: Term, *, absolute: bool, named: bool
    ) -> None:
        self._server = server
        self._message = (_TIMEOUT, self, message) if named else message
        self._process = server if isinstance(server, Process) and server.alive else None
        if self._process is not None:
            self._process.watch(self, self)
        self._handle: asyncio.TimerHandle | None = call_later(time, self._send, absolute=absolute)

    def _send(self) -> None:
        self._over()
        gen.send(self._server, self._message)

    def _over(self) -> None:
        self._handle = None
        if self._process is not None:
            self._process.unwatch(self)
            self._process = None

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        """See `erlang_port.otp.process.Watcher`."""
        del reference, process, reason
        self._process = None
        self.cancel()

    def left(self) -> float | None:
        """The seconds that are left; None: it is over, or was cancelled."""
        if self._handle is None:
            return None
        return max(self._handle.when() - asyncio.get_running_loop().time(), 0.0)

    def cancel(self) -> float | None:
        """Have it not come; the seconds that were left, as `left`."""
        left = self.left()
        if self._handle is not None:
            self._handle.cancel()
            self._over()
        return left


def send_after(time: float, server: Term, message: Term, *, absolute: bool = False) -> Timer:
    """Send a message later.

    Args:
        time: When.
        server: A process, or a name, which is looked up then.
        message: What to send.
        absolute: Whether `time` is a point in time.
    """
    return Timer(time, server, message, absolute=absolute, named=False)


def start_timer(time: float, server: Term, message: Term, *, absolute: bool = False) -> Timer:
    """Send `{timeout, Timer, Message}` later; arguments as for `send_after`."""
    return Timer(time, server, message, absolute=absolute, named=True)


def cancel_timer(timer: Timer) -> float | None:
    """Cancel a timer.

    Returns:
        The seconds that were left; None, where OTP has `false`: its message has been sent, or it
        was cancelled before.
    """
    return timer.cancel()


def read_timer(timer: Timer) -> float | None:
    """The seconds that are left of a timer; None as for `cancel_timer`."""
    return timer.left()


def call_later(
    time: float, callback: Callable[..., object], *arguments: object, absolute: bool
) -> asyncio.TimerHandle:
    """Have the loop call something at a time; one that is over already means as soon as may be."""
    loop = asyncio.get_running_loop()
    if absolute:
        # The loop's clock is `time.monotonic`.
        return loop.call_at(time, callback, *arguments)
    return loop.call_later(time, callback, *arguments)
