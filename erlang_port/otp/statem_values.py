"""What a state machine's callbacks give: results, and the actions in them (gen_statem(3)).

Times are in seconds from now, or, absolute, points in time as `time.monotonic` has them; None is
OTP's `infinity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeAlias, TypeVar

from erlang_port.etf import Atom, Term
from erlang_port.otp.gen import Hibernate
from erlang_port.otp.reasons import NORMAL

if TYPE_CHECKING:
    from erlang_port.otp.gen import From

State = TypeVar("State")
Data = TypeVar("Data")

#: What kind of event comes: `cast`, `info`, `internal`, `enter`, `state_timeout`, `timeout`,
#: `{call, From}`, or `{timeout, Name}`. To match: `case ("call", from_)`, `case "cast"`.
EventType: TypeAlias = Atom | tuple[Atom, Term]

CAST: Final = Atom("cast")
INFO: Final = Atom("info")
INTERNAL: Final = Atom("internal")
ENTER: Final = Atom("enter")
CALL: Final = Atom("call")
#: The state timeout: ends when the state changes.
STATE_TIMEOUT: Final = Atom("state_timeout")
#: The event timeout: any event ends it.
TIMEOUT: Final = Atom("timeout")


class Reply(NamedTuple):
    """Answer a call."""

    from_: From
    value: Term


class Postpone(NamedTuple):
    """Take the event again after the next change of state; the last of several counts."""

    postpone: bool = True


class NextEvent(NamedTuple):
    """Insert an event, which comes before those that wait."""

    type: EventType
    content: Term


class StateTimeout(NamedTuple):
    """Start the state timeout over: an event `state_timeout`, unless the state changes before."""

    time: float | None
    content: Term = None
    absolute: bool = False


class EventTimeout(NamedTuple):
    """Start the event timeout over: an event `timeout`, unless another event comes before."""

    time: float | None
    content: Term = None
    absolute: bool = False


class Timeout(NamedTuple):
    """Start a timeout of this name over: an event `{timeout, Name}`, whatever comes before."""

    name: Term
    time: float | None
    content: Term = None
    absolute: bool = False


class Cancel(NamedTuple):
    """Cancel a timeout, told by the type of its event."""

    timeout: EventType


class Update(NamedTuple):
    """Change a running timeout's content; one that does not run comes at once."""

    timeout: EventType
    content: Term


Action: TypeAlias = (
    Reply
    | Postpone
    | NextEvent
    | StateTimeout
    | EventTimeout
    | Timeout
    | Cancel
    | Update
    | Hibernate
)
#: One, or several, done in this order.
Actions: TypeAlias = Action | Sequence[Action]
#: Also what a state enter call may ask for.
TIMEOUTS: Final = (StateTimeout, EventTimeout, Timeout, Cancel, Update)
ACTIONS: Final = (Reply, Postpone, NextEvent, *TIMEOUTS, Hibernate)


class Unchanged(NamedTuple):
    """Stands for data that stay as they are."""


UNCHANGED: Final = Unchanged()


class Ok(NamedTuple, Generic[State, Data]):
    """`init`: the machine is ready, in this state."""

    state: State
    data: Data
    actions: Actions = ()


class Ignore(NamedTuple):
    """`init`: the machine is not wanted; `start` gives None."""


class NextState(NamedTuple, Generic[State, Data]):
    """Go to a state, which may be the same."""

    state: State
    data: Data
    actions: Actions = ()


class KeepState(NamedTuple, Generic[Data]):
    """Stay."""

    data: Data
    actions: Actions = ()


class KeepStateAndData(NamedTuple):
    """Stay, with the same data."""

    actions: Actions = ()


class RepeatState(NamedTuple, Generic[Data]):
    """Stay, with the state enter call as if it were a change."""

    data: Data
    actions: Actions = ()


class RepeatStateAndData(NamedTuple):
    """The same, with the same data."""

    actions: Actions = ()


class Stop(NamedTuple, Generic[Data]):
    """Terminate; of `init`: do not start."""

    reason: Term = NORMAL
    data: Data | Unchanged = UNCHANGED


class StopAndReply(NamedTuple, Generic[Data]):
    """Answer calls, and terminate."""

    reason: Term
    replies: Reply | Sequence[Reply]
    data: Data | Unchanged = UNCHANGED


InitResult: TypeAlias = Ok[State, Data] | Stop[Data] | Ignore
#: What a state enter call may give: no other state, `Postpone` or `NextEvent`.
EnterResult: TypeAlias = (
    NextState[State, Data]
    | KeepState[Data]
    | KeepStateAndData
    | RepeatState[Data]
    | RepeatStateAndData
    | Stop[Data]
    | StopAndReply[Data]
)
Result: TypeAlias = EnterResult[State, Data]
