"""The timeouts of a state machine: at most one of each type (gen_statem(3), "Time-Out Actions")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from erlang_port.otp import statem_values as values
from erlang_port.otp import timers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from erlang_port.etf import Term
    from erlang_port.otp.process import Process
    from erlang_port.otp.statem_values import EventType

    Action = (
        values.StateTimeout | values.EventTimeout | values.Timeout | values.Cancel | values.Update
    )


class Timer:
    """A running timeout; when it is over it comes as a message."""

    __slots__ = ("content", "handle", "type")

    def __init__(self, type_: EventType, content: Term) -> None:
        self.type = type_
        self.content = content
        self.handle: asyncio.TimerHandle | None = None


class Timers:
    """The timeouts of one machine.

    Those of no time at all never start: they wait here until there is no other event, and come
    before any message that has not been taken yet. In gen_fsm they come after those that are there.

    Args:
        process: The machine's.
        at_once: Whether those of no time come before messages.
    """

    __slots__ = ("_at_once", "_process", "_running", "_zero")

    def __init__(self, process: Process, *, at_once: bool = True) -> None:
        self._process = process
        self._at_once = at_once
        self._running: dict[EventType, Timer] = {}
        self._zero: list[Timer] = []

    def over(self, timer: Timer) -> bool:
        """Whether a timer that comes as a message still counts; it is gone then."""
        if self._running.get(timer.type) is not timer:
            return False
        del self._running[timer.type]
        return True

    def zero(self) -> Timer | None:
        """The next timeout of no time, which is gone then."""
        if not self._zero:
            return None
        timer = self._zero.pop(0)
        del self._running[timer.type]
        return timer

    def cancel(self, type_: EventType) -> None:
        """Have a timeout not come."""
        timer = self._running.pop(type_, None)
        if timer is None:
            return
        if timer.handle is not None:
            timer.handle.cancel()
        elif timer in self._zero:
            self._zero.remove(timer)

    def _cancel_all(self) -> None:
        for type_ in list(self._running):
            self.cancel(type_)

    def apply(self, actions: Sequence[Action]) -> None:
        """Do what a result says; of several actions on one timeout the last counts."""
        latest = {key(action): action for action in actions}
        # In the order of those that count, not of the first ones.
        for action in actions:
            if latest.get(key(action)) is action:
                del latest[key(action)]
                self._apply(key(action), action)

    def _apply(self, type_: EventType, action: Action) -> None:
        match action:
            case values.Cancel():
                self.cancel(type_)
            case values.Update(_, content):
                timer = self._running.get(type_)
                if timer is None:
                    self._start(type_, 0, content, absolute=False)
                else:
                    timer.content = content
            case _:
                self.cancel(type_)
                if action.time is not None:
                    self._start(type_, action.time, action.content, absolute=action.absolute)

    def _start(self, type_: EventType, time: float, content: Term, *, absolute: bool) -> None:
        timer = self._running[type_] = Timer(type_, content)
        if time == 0 and not absolute and self._at_once:
            self._zero.append(timer)
        elif time == 0 and not absolute:
            self._process.send(timer)
        else:
            timer.handle = timers.call_later(time, self._process.send, timer, absolute=absolute)
            if self._process.cleanup is None:
                self._process.cleanup = self._cancel_all

    def listed(self) -> list[Term]:
        """Types and contents, for `sys:get_status`."""
        return [(timer.type, timer.content) for timer in self._running.values()]


def key(action: Action) -> EventType:
    """The type of event that a timeout comes as."""
    match action:
        case values.StateTimeout():
            return values.STATE_TIMEOUT
        case values.EventTimeout():
            return values.TIMEOUT
        case values.Timeout(name):
            return values.TIMEOUT, name
        case values.Cancel(type_) | values.Update(type_):
            return type_


#: What may be cancelled or updated, beside `{timeout, Name}`.
TYPES: Final = (values.STATE_TIMEOUT, values.TIMEOUT)
