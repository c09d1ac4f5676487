"""The engine of gen_server: what its messages mean, and what a callback's result says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, TypeAlias, TypeVar

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen, server
from erlang_port.otp.gen import Hibernate
from erlang_port.otp.reasons import Exit, as_reason, of_exception

if TYPE_CHECKING:
    from erlang_port.otp.gen import From
    from erlang_port.otp.process import Process

State = TypeVar("State")

_CAST: Final = gen.CAST
_CALL: Final = gen.CALL
_TIMEOUT: Final = Atom("timeout")
_BAD_RETURN: Final = Atom("bad_return_value")


class Continue(NamedTuple):
    """`{continue, Content}`: `handle_continue` comes next, before any message."""

    content: Term


#: What may stand after the state: seconds after which `timeout` comes as an info message unless
#: another message comes first, or what is to be done at once.
Then: TypeAlias = float | Continue | Hibernate | None


class Ok(NamedTuple, Generic[State]):
    """`init`: the server is ready."""

    state: State
    then: Then = None


class Ignore(NamedTuple):
    """`init`: the server is not wanted; `start` gives None."""


class Reply(NamedTuple, Generic[State]):
    """Answer the call, and go on."""

    value: Term
    state: State
    then: Then = None


class NoReply(NamedTuple, Generic[State]):
    """Go on; a call may be answered later by whoever has its `From`."""

    state: State
    then: Then = None


class Stop(NamedTuple, Generic[State]):
    """Terminate without an answer; of `init`: do not start (the state is not used then)."""

    reason: Term
    state: State | None = None


class StopReply(NamedTuple, Generic[State]):
    """Answer the call, and terminate."""

    reason: Term
    value: Term
    state: State


class _Timer:
    """A timeout, and the message that it comes as: not wanted when another has come before."""

    __slots__ = ("_handle",)

    def __init__(self, seconds: float, process: Process) -> None:
        self._handle = asyncio.get_running_loop().call_later(seconds, process.send, self)

    def cancel(self) -> None:
        """Have it not come."""
        self._handle.cancel()


class _Next:
    """What a result puts off, as a message before all others."""

    # A turn may end in between, and the process too, however many follow one another.
    __slots__ = ("content",)

    def __init__(self, content: Term) -> None:
        self.content = content


class GenServerEngine(server.Server):
    """Runs a `GenServer`."""

    __slots__ = ("_state", "_timer")

    behaviour: ClassVar[Atom] = Atom("gen_server")

    def __init__(self, process: Process, module: Any) -> None:  # noqa: ANN401
        super().__init__(process, module)
        self._state: Any = None
        self._timer: _Timer | None = None

    async def initialise(self, args: Term) -> None:
        """See `Server`."""
        result = await server.settled(self.module.init(args))
        match result:
            case Ok(state, then):
                self._state = state
                self._then(then)
            case Stop(reason):
                raise Exit(reason)
            case Ignore():
                raise server.Ignored
            case _:
                raise Exit((_BAD_RETURN, result))

    def receive(self, message: Term) -> server.Waiting:
        """See `Server`: a cast of this runtime's own is no message of anybody else's."""
        if (
            type(message) is tuple
            and len(message) == 2
            and message[0] is _CAST
            and self._timer is None
            and self.debug is None
        ):
            return self._cast(message[1])
        return super().receive(message)

    def _cast(self, content: Term) -> server.Waiting:
        try:
            result = self.module.handle_cast(content, self._state)
        except Exception as error:  # noqa: BLE001  # its end, with terminate
            return self.stop(of_exception(error), error)
        if type(result) is NoReply and result[1] is None:
            self._state = result[0]
            return None
        return self._after(result, None)

    def handle(self, message: Term) -> server.Waiting:
        """See `Server`."""
        if self._timer is not None:
            message = self._timed(message)
        if type(message) is tuple:
            if len(message) == 2 and message[0] == _CAST:
                return self._cast(message[1])
            if len(message) == 3 and message[0] == _CALL:
                from_ = message[1]
                deadline = from_.tag.deadline
                if deadline is not None and time.monotonic() >= deadline:
                    return None
                return self._after(self._do(self.module.handle_call, message[2], from_), from_)
        if type(message) is _Timer:
            return None
        if type(message) is _Next:
            return self._after(self._do(self.module.handle_continue, message.content), None)
        return self._after(self._do(self.module.handle_info, message), None)

    def _timed(self, message: Term) -> Term:
        """What a message is while there is a timeout, which any message ends."""
        timer = self._timer
        if message is timer:
            self._timer = None
            return _TIMEOUT
        if type(message) is not _Timer and timer is not None:
            timer.cancel()
            self._timer = None
        return message

    def _do(self, callback: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        """What a callback gives, or how it failed."""
        try:
            return callback(*arguments, self._state)
        except Exception as error:  # noqa: BLE001  # its end, with terminate
            return error

    def _after(self, result: Any, from_: From | None) -> server.Waiting:  # noqa: ANN401
        """Do what a result says."""
        kind = type(result)
        if kind is Reply and from_ is not None:
            self._state = result.state
            from_.tag.reply(result.value)
        elif kind is NoReply:
            self._state = result.state
        elif isinstance(result, Exception):
            return self.stop(of_exception(result), result)
        elif kind is Stop:
            self._state = result.state
            return self.stop(as_reason(result.reason))
        elif kind is StopReply and from_ is not None:
            self._state = result.state
            return self.stop(as_reason(result.reason), last=partial(from_.tag.reply, result.value))
        elif isinstance(result, Awaitable):
            return self._finish(result, from_)
        else:
            return self.stop((_BAD_RETURN, repr(kind).encode()))
        if result.then is not None:
            self._then(result.then)
        return None

    async def _finish(self, result: Any, from_: From | None) -> None:  # noqa: ANN401
        """Wait for what an async callback gives, and do what that says."""
        try:
            result = await result
        except Exception as error:  # noqa: BLE001  # its end, with terminate
            result = error
        waiting = self._after(result, from_)
        if waiting is not None:
            await waiting

    def _then(self, then: Then) -> None:
        if isinstance(then, Continue):
            self.process.put_back([_Next(then.content)])
        elif then is not None and not isinstance(then, Hibernate):
            self._timer = _Timer(then, self.process)
            if self.process.cleanup is None:
                self.process.cleanup = self._cancel

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def terminate(self, reason: Term) -> None:
        """See `Server`."""
        await server.settled(self.module.terminate(reason, self._state))

    def state(self) -> Term:
        """See `Server`."""
        return self._state

    def replace_state(self, change: Callable[[Term], Term]) -> Term:
        """See `Server`."""
        self._state = change(self._state)
        return self._state

    def shown(self, message: Term) -> Term:
        """See `Server`."""
        if type(message) is _Timer:
            return _TIMEOUT if message is self._timer else server.HIDDEN
        return server.HIDDEN if type(message) is _Next else message

    async def change_code(self, old_version: Term, extra: Term) -> None:
        """See `Server`."""
        changed = self.module.code_change(old_version, self._state, extra)
        self._state = await server.settled(changed)
