"""gen_fsm's door to the engine of state machines: its messages, callbacks and results."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, TypeAlias, TypeVar

from erlang_port.etf import Atom, Term
from erlang_port.otp import server
from erlang_port.otp import statem_values as values
from erlang_port.otp.gen import Hibernate
from erlang_port.otp.reasons import Exit, as_reason
from erlang_port.otp.statem_engine import Engine, Event, Terminate
from erlang_port.otp.statem_timers import Timers

if TYPE_CHECKING:
    from erlang_port.otp.process import Process

Data = TypeVar("Data")

EVENT: Final = Atom("$gen_event")
ALL_STATE_EVENT: Final = Atom("$gen_all_state_event")
SYNC_EVENT: Final = Atom("$gen_sync_event")
SYNC_ALL_STATE_EVENT: Final = Atom("$gen_sync_all_state_event")
TIMER: Final = Atom("$gen_timer")
TIMEOUT: Final = Atom("timeout")

_BAD_RETURN: Final = Atom("bad_return_value")
_INFO: Final = values.INFO


#: What may stand after the data: seconds after which an event `timeout` comes unless a message
#: comes first.
Then: TypeAlias = float | Hibernate | None


class Ok(NamedTuple, Generic[Data]):
    """`init`: the machine is ready."""

    state: str
    data: Data
    then: Then = None


class Ignore(NamedTuple):
    """`init`: the machine is not wanted; `start` gives None."""


class NextState(NamedTuple, Generic[Data]):
    """Go to a state, which may be the same."""

    state: str
    data: Data
    then: Then = None


class Reply(NamedTuple, Generic[Data]):
    """Answer the call, and go to a state."""

    value: Term
    state: str
    data: Data
    then: Then = None


class Stop(NamedTuple, Generic[Data]):
    """Terminate without an answer; of `init`: do not start (the data are not used then)."""

    reason: Term
    data: Data | None = None


class StopReply(NamedTuple, Generic[Data]):
    """Terminate, and answer the call."""

    reason: Term
    value: Term
    data: Data


class FsmEngine(Engine):
    """Runs a `GenFsm`: an event's type here is what kind of message it came as."""

    __slots__ = ()

    behaviour: ClassVar[Atom] = Atom("gen_fsm")

    def __init__(self, process: Process, module: Any) -> None:  # noqa: ANN401
        super().__init__(process, module)
        self._timers = Timers(process, at_once=False)

    async def initialise(self, args: Term) -> None:
        """See `Server`."""
        match await server.settled(self.module.init(args)):
            case Ok(state, data, then):
                self._state, self._data = state, data
                self._first = _actions(then)
            case Stop(reason):
                raise Exit(reason)
            case Ignore():
                raise server.Ignored
            case result:
                raise Exit((_BAD_RETURN, repr(type(result)).encode()))

    def event(self, message: Term) -> Event:
        """See `Engine`: a call's type is `{Kind, From}`."""
        match message:
            case (("$gen_event" | "$gen_all_state_event") as kind, content):
                return Event(kind, content)
            case (("$gen_sync_event" | "$gen_sync_all_state_event") as kind, from_, content):
                return Event((kind, from_), content)
            case ("timeout", reference, ("$gen_timer", content)):
                return Event(EVENT, (TIMEOUT, reference, content))
            case ("timeout", _, ("$gen_event", content)):
                return Event(EVENT, content)
        return Event(_INFO, message)

    def callback(self, event: Event, state: Term, data: Any) -> Any:  # noqa: ANN401
        """See `Engine`."""
        module = self.module
        match event.type:
            case "$gen_event" | "timeout":
                return getattr(module, str(state))(event.content, data)
            case "$gen_all_state_event":
                return module.handle_event(event.content, state, data)
            case ("$gen_sync_event", from_):
                # The same name with another arity there.
                return _sync(module, str(state))(event.content, from_, data)
            case (_, from_):
                return module.handle_sync_event(event.content, from_, state, data)
        return module.handle_info(event.content, state, data)

    def result(self, result: Any, event: Event) -> Any:  # noqa: ANN401
        """See `Engine`."""
        from_: Any = event.type[1] if type(event.type) is tuple else None
        match result:
            case NextState(state, data, then):
                return values.NextState(state, data, _actions(then))
            case Reply(value, state, data, then) if from_ is not None:
                actions = [values.Reply(from_, value), *_actions(then)]
                return values.NextState(state, data, actions)
            case Stop(reason, data):
                return values.Stop(reason, data)
            case StopReply(reason, value, data) if from_ is not None:
                # Answered after terminate, other than in gen_statem.
                self._data = data
                raise Terminate(as_reason(reason), partial(from_.tag.reply, value))
        raise Terminate((_BAD_RETURN, repr(type(result)).encode()))


def _actions(then: Then) -> list[values.Action]:
    """The event that comes when there is no message for so long; any message ends it."""
    if then is None or isinstance(then, Hibernate):
        return []
    return [values.EventTimeout(then, TIMEOUT)]


def _sync(module: Any, state: str) -> Any:  # noqa: ANN401
    """A state's function with three arguments: under a name of its own if there are both."""
    function = getattr(module, f"{state}_sync", None)
    return getattr(module, state) if function is None else function
