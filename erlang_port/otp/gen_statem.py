"""gen_statem: a generic state machine, as OTP's behaviour of this name.

(OTP Design Principles, "gen_statem Behaviour"; gen_statem(3).) With a callback for each state:

    class Door(GenStatem[str, int]):
        callback_mode = STATE_FUNCTIONS

        def init(self, args):
            return Ok("locked", args)

        def locked(self, event_type, content, data):
            if event_type == "cast" and content == data:
                return NextState("open", data, [StateTimeout(10.0)])
            return KeepStateAndData()

        def open(self, event_type, content, data):
            if event_type == "state_timeout":
                return NextState("locked", data)
            return KeepStateAndData(Postpone())

or with one for all of them, `handle_event`. A callback may be `async def`; the machine takes no
other message meanwhile. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeAlias

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen, starting
from erlang_port.otp.gen import From, Hibernate, Request, StartError
from erlang_port.otp.reasons import Exit
from erlang_port.otp.statem_engine import Engine
from erlang_port.otp.statem_values import (
    Action,
    Actions,
    Cancel,
    Data,
    EnterResult,
    EventTimeout,
    EventType,
    Ignore,
    InitResult,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Ok,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    Reply,
    Result,
    State,
    StateTimeout,
    Stop,
    StopAndReply,
    Timeout,
    Update,
)

if TYPE_CHECKING:
    from erlang_port.otp.process import Process

__all__ = [
    "HANDLE_EVENT_FUNCTION",
    "STATE_FUNCTIONS",
    "Action",
    "Actions",
    "Cancel",
    "EnterResult",
    "EventTimeout",
    "EventType",
    "Exit",
    "From",
    "GenStatem",
    "Hibernate",
    "Ignore",
    "InitResult",
    "KeepState",
    "KeepStateAndData",
    "NextEvent",
    "NextState",
    "Ok",
    "Postpone",
    "RepeatState",
    "RepeatStateAndData",
    "Reply",
    "Result",
    "StartError",
    "StateTimeout",
    "Stop",
    "StopAndReply",
    "Timeout",
    "Update",
    "call",
    "cast",
    "reply",
    "send_request",
    "start",
    "start_link",
    "stop",
]

_MODULE: Final = Atom("gen_statem")

CallbackMode: TypeAlias = Literal["state_functions", "handle_event_function"]
#: A callback by the name of each state, which is a string then.
STATE_FUNCTIONS: Final = "state_functions"
#: `handle_event` for all states, which may be any term.
HANDLE_EVENT_FUNCTION: Final = "handle_event_function"


class GenStatem(Generic[State, Data]):
    """The callbacks: `init`, and `handle_event` or a function for each state.

    Attributes:
        callback_mode: `STATE_FUNCTIONS` or `HANDLE_EVENT_FUNCTION`.
        state_enter: Whether an event `enter`, with the state before, comes whenever a state is
            entered; its result is an `EnterResult`, which changes no state, postpones nothing and
            inserts nothing.
    """

    callback_mode: ClassVar[CallbackMode] = HANDLE_EVENT_FUNCTION
    state_enter: ClassVar[bool] = False

    def init(
        self,
        args: Any,  # noqa: ANN401  # any term
    ) -> InitResult[State, Data] | Awaitable[InitResult[State, Data]]:
        """Give the first state and data."""
        raise NotImplementedError

    def handle_event(
        self,
        event_type: EventType,
        content: Any,  # noqa: ANN401  # any term
        state: State,
        data: Data,
    ) -> Result[State, Data] | Awaitable[Result[State, Data]]:
        """Take an event."""
        raise NotImplementedError

    def terminate(self, reason: Term, state: State, data: Data) -> object:
        """Clean up; the result is ignored, and may be awaitable."""

    def code_change(
        self, old_version: Term, state: State, data: Data, extra: Term
    ) -> tuple[State, Data] | Awaitable[tuple[State, Data]]:
        """Give state and data for the code of today, when `sys:change_code` asks for it."""
        return state, data


async def start(
    module: type[GenStatem[Any, Any]] | GenStatem[Any, Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a machine that is linked to nobody; see `erlang_port.otp.starting.start`."""
    return await starting.start(Engine, module, args, name=name, timeout=timeout)


async def start_link(
    module: type[GenStatem[Any, Any]] | GenStatem[Any, Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a machine linked to the process that runs now; see `erlang_port.otp.starting.start`."""
    return await starting.start(Engine, module, args, name=name, link=True, timeout=timeout)


async def call(server: Term, message: Term, timeout: float | None = None) -> Term:
    """Call a machine; its answer.

    Args:
        server: As `erlang_port.otp.runtime.Runtime.whereis` takes it.
        message: What comes as an event `{call, From}`.
        timeout: Seconds, or None, as in OTP.

    Raises:
        Exit: `{Reason, {gen_statem, call, [Server, Message]}}`.
    """
    return await gen.call(server, gen.CALL, message, timeout, _MODULE)


def cast(server: Term, message: Term) -> None:
    """Send a machine an event `cast`; it never fails."""
    gen.send(server, (gen.CAST, message))


def reply(from_: From | Iterable[Reply], value: Term = None) -> None:
    """Answer a call from anywhere, once; or several, given as actions."""
    if isinstance(from_, From):
        from_.tag.reply(value)
    else:
        for one in from_:
            one.from_.tag.reply(one.value)


async def stop(server: Term, reason: Term = "normal", timeout: float | None = None) -> None:
    """Have a machine terminate, and wait for its end.

    Raises:
        Exit: There was none, it ended with another reason, or not in time.
    """
    await gen.stop(server, reason, timeout)


def send_request(server: Term, message: Term) -> Request:
    """Call a machine without waiting: `await request.response(timeout)` does, once."""
    return gen.request(server, gen.CALL, message, _MODULE)
