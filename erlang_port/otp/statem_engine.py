"""The engine of state machines, behind `gen_statem` and `gen_fsm`.

Theory of operation. A message is an event. Taking an event is a transition:

    callback ──▶ result ──▶ actions ──▶ state enter call, when the state changes or is repeated
                                          │   its actions are added
                                          ▼
    postponed, if asked for; on a change of state those postponed go before the events that wait,
    the state timeout ends; the event timeout ends; timeouts start; inserted events go first of all

until no event waits, then timeouts of no time, one by one, and only then the next message.
(gen_statem(3), "transition_option()", says this in ten steps.)

All of it is a generator that yields what has to be awaited, which is nothing while callbacks are
plain: then a message is done before `handle` returns. A chain of events that takes longer than
`runtime.SLICE` waits for the loop to look after everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen, server
from erlang_port.otp import statem_values as values
from erlang_port.otp.reasons import Exit, as_reason, of_exception
from erlang_port.otp.runtime import SLICE
from erlang_port.otp.statem_timers import TYPES, Timer, Timers

if TYPE_CHECKING:
    from erlang_port.otp.process import Process

_BAD_RETURN: Final = Atom("bad_return_from_state_function")
_BAD_ACTION: Final = Atom("bad_action_from_state_function")
_BAD_ENTER_RETURN: Final = Atom("bad_state_enter_return_from_state_function")
_BAD_ENTER_ACTION: Final = Atom("bad_state_enter_action_from_state_function")
_BAD_REPLY: Final = Atom("bad_reply_action_from_state_function")

#: Yields what is to be awaited.
Work: TypeAlias = Generator[Awaitable[Any], Any, None]


class Event(NamedTuple):
    """An event: its type, and what it carries."""

    type: values.EventType
    content: Term


class Transition:
    """What one event leads to, gathered from its callback and from the state enter calls after."""

    __slots__ = ("data", "events", "postpone", "state", "timeouts")

    def __init__(self, state: Term, data: Any) -> None:  # noqa: ANN401  # the module's
        self.state = state
        self.data = data
        self.events: list[Event] = []
        self.timeouts: list[Any] = []
        self.postpone = False


class Terminate(Exception):  # noqa: N818  # no error
    """A result ends the machine.

    Attributes:
        reason: Why.
        last: What is done after `terminate`.
    """

    def __init__(self, reason: Term, last: Callable[[], None] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.last = last


class Engine(server.Server):
    """Runs a state machine; a door says what messages and callbacks look like."""

    __slots__ = (
        "_data",
        "_enters",
        "_first",
        "_postponed",
        "_queue",
        "_slice_ends",
        "_state",
        "_timers",
    )

    behaviour: ClassVar[Atom] = Atom("gen_statem")

    def __init__(self, process: Process, module: Any) -> None:  # noqa: ANN401
        super().__init__(process, module)
        self._state: Term = None
        self._data: Any = None
        self._enters = False
        self._first: values.Actions = ()
        self._queue: deque[Event] = deque()
        self._postponed: list[Event] = []
        self._timers = Timers(process)
        self._slice_ends = 0.0

    # What a door says.

    def event(self, message: Term) -> Event:
        """What a message is."""
        if type(message) is tuple:
            if len(message) == 2 and message[0] == gen.CAST:
                return Event(values.CAST, message[1])
            if len(message) == 3 and message[0] == gen.CALL:
                return Event((values.CALL, message[1]), message[2])
        return Event(values.INFO, message)

    def callback(self, event: Event, state: Term, data: Any) -> Any:  # noqa: ANN401
        """Run the callback for an event; its result, which may be awaitable."""
        if self.module.callback_mode == "handle_event_function":
            return self.module.handle_event(event.type, event.content, state, data)
        return getattr(self.module, str(state))(event.type, event.content, data)

    def result(self, result: Any, event: Event) -> Any:  # noqa: ANN401
        """A callback's result as one of `values`."""
        del event
        return result

    async def initialise(self, args: Term) -> None:
        """See `Server`."""
        match await server.settled(self.module.init(args)):
            case values.Ok(state, data, actions):
                self._state, self._data, self._first = state, data, actions
                self._enters = self.module.state_enter
            case values.Stop(reason):
                raise Exit(reason)
            case values.Ignore():
                raise server.Ignored
            case result:
                raise Exit((Atom("bad_return_from_init"), _kind(result)))

    # Events.

    def begun(self) -> server.Waiting:
        """See `Server`."""
        return self._run(self._begin())

    def handle(self, message: Term) -> server.Waiting:
        """See `Server`."""
        if type(message) is Timer:
            if not self._timers.over(message):
                return None
            self._queue.append(Event(message.type, message.content))
        else:
            self._queue.append(self.event(message))
        return self._run(self._events())

    def _run(self, work: Work) -> server.Waiting:
        self._slice_ends = time.monotonic() + SLICE
        try:
            awaited = next(work)
        except StopIteration:
            return None
        return _driven(work, awaited)

    def _begin(self) -> Work:
        transition = Transition(self._state, self._data)
        actions, self._first = self._first, ()
        # Nothing can be postponed yet, so this event is never seen.
        event = Event(values.INTERNAL, Atom("init_state"))
        try:
            self._act(transition, actions, entering=False)
        except Terminate as end:
            yield self.stop(end.reason, last=end.last)
            return
        transition.postpone = False
        yield from self._transit(transition, event, enter=True)
        if self.process.alive:
            yield from self._events()

    def _events(self) -> Work:
        queue = self._queue
        while self.process.exit_reason is None:
            if queue:
                event = queue.popleft()
            else:
                timer = self._timers.zero()
                if timer is None:
                    return
                event = Event(timer.type, timer.content)
            yield from self._transit(Transition(self._state, self._data), event)

    def _transit(self, transition: Transition, event: Event, *, enter: bool = False) -> Work:
        """Take an event, or only enter the first state."""
        entering = enter
        while True:
            if entering and not self._enters:
                break
            if time.monotonic() > self._slice_ends:
                yield asyncio.sleep(0)
                self._slice_ends = time.monotonic() + SLICE
            called = Event(values.ENTER, self._state) if entering else event
            try:
                result = self.callback(called, transition.state, transition.data)
                if isinstance(result, Awaitable):
                    result = yield result
                if self.process.exit_reason is not None:
                    return
                again = self._apply(transition, self.result(result, called), entering)
            except Terminate as end:
                yield self.stop(end.reason, last=end.last)
                return
            except Exception as error:  # noqa: BLE001  # its end, with terminate
                yield self.stop(of_exception(error), error)
                return
            if not again:
                break
            entering = True
        self._commit(transition, event)

    def _apply(self, to: Transition, result: Any, entering: bool) -> bool:  # noqa: ANN401
        """Do what a result says; whether the state enter call comes next."""
        again = False
        match result:
            case values.NextState(state, data, actions):
                again = state != to.state
                if again and entering:
                    raise self._terminate(to, (_BAD_ENTER_RETURN, _kind(result)))
                to.state, to.data = state, data
            case values.KeepState(data, actions):
                to.data = data
            case values.KeepStateAndData(actions):
                pass
            case values.RepeatState(data, actions):
                to.data, again = data, True
            case values.RepeatStateAndData(actions):
                again = True
            case _:
                raise self._end(to, result)
        if actions != ():
            self._act(to, actions, entering=entering)
        return again

    def _end(self, to: Transition, result: Any) -> Terminate:  # noqa: ANN401
        """The end that a result asks for, or is by being bad."""
        match result:
            case values.Stop(reason, data):
                return self._terminate(to, reason, data)
            case values.StopAndReply(reason, replies, data):
                for reply in _listed(replies):
                    if type(reply) is not values.Reply:
                        return self._terminate(to, (_BAD_REPLY, _kind(reply)), data)
                    reply.from_.tag.reply(reply.value)
                return self._terminate(to, reason, data)
        return self._terminate(to, (_BAD_RETURN, _kind(result)))

    def _act(self, to: Transition, actions: values.Actions, *, entering: bool) -> None:
        for action in _listed(actions):
            match action:
                case values.Reply(from_, value):
                    from_.tag.reply(value)
                case values.Postpone(postpone) if not (entering and postpone):
                    to.postpone = postpone
                case values.NextEvent(type_, content) if not entering and _is_event(type_):
                    to.events.append(Event(type_, content))
                case values.NextEvent() | values.Postpone():
                    bad = _BAD_ENTER_ACTION if entering else _BAD_ACTION
                    raise self._terminate(to, (bad, _kind(action)))
                case gen.Hibernate():
                    pass
                case _ if _is_timeout(action):
                    to.timeouts.append(action)
                case _:
                    raise self._terminate(to, (_BAD_ACTION, _kind(action)))

    def _terminate(
        self,
        to: Transition,
        reason: Term,
        data: Any = values.UNCHANGED,  # noqa: ANN401
        last: Callable[[], None] | None = None,
    ) -> Terminate:
        """The machine's end, with the state and the data that `terminate` is to see."""
        self._state = to.state
        self._data = to.data if data is values.UNCHANGED else data
        return Terminate(as_reason(reason), last)

    def _commit(self, to: Transition, event: Event) -> None:
        if to.postpone:
            self._postponed.append(event)
        if to.state != self._state:
            self._queue.extendleft(reversed(self._postponed))
            self._postponed.clear()
            self._timers.cancel(values.STATE_TIMEOUT)
        self._timers.cancel(values.TIMEOUT)
        self._state, self._data = to.state, to.data
        if to.timeouts:
            self._timers.apply(to.timeouts)
        self._queue.extendleft(reversed(to.events))

    # The end, and system messages.

    async def terminate(self, reason: Term) -> None:
        """See `Server`."""
        await server.settled(self.module.terminate(reason, self._state, self._data))

    def state(self) -> Term:
        """See `Server`."""
        return self._state, self._data

    def replace_state(self, change: Callable[[Term], Term]) -> Term:
        """See `Server`."""
        changed = change((self._state, self._data))
        self._state, self._data = changed
        return changed

    def misc(self) -> Term:
        """See `Server`."""
        shown = [
            (b"Time-outs", self._timers.listed()),
            (b"Postponed", [tuple(event) for event in self._postponed]),
        ]
        return Atom("data"), shown

    def shown(self, message: Term) -> Term:
        """See `Server`."""
        return (message.type, message.content) if type(message) is Timer else message

    async def change_code(self, old_version: Term, extra: Term) -> None:
        """See `Server`."""
        changed = self.module.code_change(old_version, self._state, self._data, extra)
        self._state, self._data = await server.settled(changed)


async def _driven(work: Work, awaited: Awaitable[Any]) -> None:
    """Await what work yields."""
    while True:
        try:
            given = await awaited
        except Exception as error:  # noqa: BLE001  # the work's to see
            resume = partial(work.throw, error)
        else:
            resume = partial(work.send, given)
        try:
            awaited = resume()
        except StopIteration:
            return


def _listed(actions: Any) -> Any:  # noqa: ANN401  # whatever a module gives
    """Several actions, or one: which is a tuple too."""
    if isinstance(actions, values.ACTIONS) or not isinstance(actions, list | tuple):
        return (actions,)
    return actions


def _is_event(type_: Term) -> bool:
    """Whether an event of this type may be inserted."""
    if isinstance(type_, str):
        return type_ in {"cast", "info", "internal", "state_timeout", "timeout"}
    return type(type_) is tuple and len(type_) == 2 and type_[0] in {"call", "timeout"}


def _is_timeout(action: Any) -> bool:  # noqa: ANN401  # whatever a module gives
    """Whether an action is a good timeout."""
    match action:
        case values.StateTimeout() | values.EventTimeout() | values.Timeout():
            time = action.time
            if time is None:
                return True
            return isinstance(time, int | float) and (action.absolute or time >= 0)
        case values.Cancel(type_) | values.Update(type_):
            if isinstance(type_, str):
                return type_ in TYPES
            return type(type_) is tuple and len(type_) == 2 and type_[0] == "timeout"
    return False


def _kind(value: object) -> bytes:
    """What stands for a bad value in a reason: its type, for it need be no term."""
    return repr(type(value)).encode()
