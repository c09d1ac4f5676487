"""gen_fsm: a finite state machine by its old names.

OTP's behaviour of this name has been superseded by gen_statem, which is `gen_statem` here too, and
whose engine runs this one; it is for machines that are described in these words. (gen_fsm(3), up to
OTP 25.) A state is a name, and a function of that name takes its events:

    class Door(GenFsm[str]):
        def init(self, args):
            return Ok("locked", args)

        def locked(self, event, data):
            return NextState("open" if event == data else "locked", data, 10.0)

        def open(self, event, data):                # event is "timeout" after ten seconds
            return NextState("locked", data)

        def open_sync(self, event, from_, data):    # locked/3 and open/3 there
            return Reply("it is open", "open", data)

What `sync_send_event` sends goes to the state's function with three arguments: to `NAME_sync`, for
a class has one function of a name, or to `NAME` where there is no such. A callback may be
`async def`. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias

from erlang_port.etf import Atom, Term
from erlang_port.otp import fsm_engine as engine
from erlang_port.otp import gen, starting, timers
from erlang_port.otp.fsm_engine import (
    Data,
    FsmEngine,
    Ignore,
    NextState,
    Ok,
    Reply,
    Stop,
    StopReply,
)
from erlang_port.otp.gen import CALL_TIMEOUT, From, Hibernate, StartError
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import self

if TYPE_CHECKING:
    from erlang_port.otp.process import Process
    from erlang_port.otp.timers import Timer

__all__ = [
    "Exit",
    "From",
    "GenFsm",
    "Hibernate",
    "Ignore",
    "NextState",
    "Ok",
    "Reply",
    "StartError",
    "Stop",
    "StopReply",
    "cancel_timer",
    "reply",
    "send_all_state_event",
    "send_event",
    "send_event_after",
    "start",
    "start_link",
    "start_timer",
    "stop",
    "sync_send_all_state_event",
    "sync_send_event",
]

_MODULE: Final = Atom("gen_fsm")
_SYNC: Final = Atom("sync_send_event")
_SYNC_ALL: Final = Atom("sync_send_all_state_event")

InitResult: TypeAlias = Ok[Data] | Stop[Data] | Ignore
Result: TypeAlias = NextState[Data] | Stop[Data]
SyncResult: TypeAlias = Reply[Data] | NextState[Data] | Stop[Data] | StopReply[Data]


class GenFsm(Generic[Data]):
    """The callbacks: `init`, a function for each state, and those for what is really sent."""

    def init(self, args: Any) -> InitResult[Data] | Awaitable[InitResult[Data]]:  # noqa: ANN401
        """Give the first state and the data."""
        raise NotImplementedError

    def handle_event(
        self,
        event: Any,  # noqa: ANN401  # any term
        state: str,
        data: Data,
    ) -> Result[Data] | Awaitable[Result[Data]]:
        """Take an event that was sent to all states."""
        raise Exit((Atom("bad_event"), event))

    def handle_sync_event(
        self,
        event: Any,  # noqa: ANN401  # any term
        from_: From,
        state: str,
        data: Data,
    ) -> SyncResult[Data] | Awaitable[SyncResult[Data]]:
        """Take a call that was sent to all states."""
        raise Exit((Atom("bad_sync_event"), event))

    def handle_info(
        self,
        info: Any,  # noqa: ANN401  # any term
        state: str,
        data: Data,
    ) -> Result[Data] | Awaitable[Result[Data]]:
        """Take any other message; without this it terminates the machine, as in `gen_server`."""
        raise Exit((Atom("bad_info"), info))

    def terminate(self, reason: Term, state: str, data: Data) -> object:
        """Clean up; the result is ignored, and may be awaitable."""

    def code_change(
        self, old_version: Term, state: str, data: Data, extra: Term
    ) -> tuple[str, Data] | Awaitable[tuple[str, Data]]:
        """Give state and data for the code of today, when `sys:change_code` asks for it."""
        return state, data


async def start(
    module: type[GenFsm[Any]] | GenFsm[Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a machine that is linked to nobody; see `erlang_port.otp.starting.start`."""
    return await starting.start(FsmEngine, module, args, name=name, timeout=timeout)


async def start_link(
    module: type[GenFsm[Any]] | GenFsm[Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a machine linked to the process that runs now; see `erlang_port.otp.starting.start`."""
    return await starting.start(FsmEngine, module, args, name=name, link=True, timeout=timeout)


async def stop(server: Term, reason: Term = "normal", timeout: float | None = None) -> None:
    """Have a machine terminate, and wait for its end.

    Raises:
        Exit: There was none, it ended with another reason, or not in time.
    """
    await gen.stop(server, reason, timeout)


def send_event(server: Term, event: Term) -> None:
    """Send a machine an event for the function of its state; it never fails."""
    gen.send(server, (engine.EVENT, event))


def send_all_state_event(server: Term, event: Term) -> None:
    """Send a machine an event for `handle_event`; it never fails."""
    gen.send(server, (engine.ALL_STATE_EVENT, event))


async def sync_send_event(server: Term, event: Term, timeout: float | None = CALL_TIMEOUT) -> Term:
    """Call the function of a machine's state; its answer.

    Raises:
        Exit: `{Reason, {gen_fsm, sync_send_event, [Server, Event]}}`.
    """
    return await gen.call(server, engine.SYNC_EVENT, event, timeout, _MODULE, _SYNC)


async def sync_send_all_state_event(
    server: Term, event: Term, timeout: float | None = CALL_TIMEOUT
) -> Term:
    """Call `handle_sync_event` of a machine; its answer.

    Raises:
        Exit: `{Reason, {gen_fsm, sync_send_all_state_event, [Server, Event]}}`.
    """
    kind = engine.SYNC_ALL_STATE_EVENT
    return await gen.call(server, kind, event, timeout, _MODULE, _SYNC_ALL)


def reply(from_: From, value: Term) -> None:
    """Answer a call whose result gave no answer; from anywhere, once."""
    from_.tag.reply(value)


def send_event_after(time: float, event: Term) -> Timer:
    """Send the machine that runs now an event, in so many seconds."""
    return timers.start_timer(time, self(), (engine.EVENT, event))


def start_timer(time: float, message: Term) -> Timer:
    """Send the machine that runs now an event `{timeout, Timer, Message}`, in so many seconds."""
    return timers.start_timer(time, self(), (engine.TIMER, message))


def cancel_timer(timer: Timer) -> float | None:
    """Cancel one of the machine's own timers.

    Returns:
        The seconds that were left; None, where OTP has `false`: its event has been taken.
    """
    left = timers.cancel_timer(timer)
    if left is not None:
        return left
    mailbox = self().mailbox
    for at, message in enumerate(mailbox):
        match message:
            case ("timeout", found, _) if found is timer:
                del mailbox[at]
                return 0.0
    return None
