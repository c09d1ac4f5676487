"""gen_server: a client and a server, as OTP's behaviour of this name has them.

(OTP Design Principles, "gen_server Behaviour"; gen_server(3).) A server is a class with callbacks:

    class Counter(GenServer[int]):
        def init(self, args):
            return Ok(args)

        def handle_call(self, message, from_, state):
            return Reply(state, state + message)

    counter = await gen_server.start_link(Counter, 0, name="counter")
    await gen_server.call("counter", 1)

A callback may be `async def`; the server takes no other message meanwhile. Times are in seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, TypeAlias, TypeVar

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen, server, starting
from erlang_port.otp.gen import CALL_TIMEOUT, From, Hibernate, Request, StartError
from erlang_port.otp.reasons import Exit, as_reason, of_exception

if TYPE_CHECKING:
    from erlang_port.otp.process import Process

__all__ = [
    "CALL_TIMEOUT",
    "Continue",
    "Exit",
    "From",
    "GenServer",
    "Hibernate",
    "Ignore",
    "NoReply",
    "Ok",
    "Reply",
    "StartError",
    "Stop",
    "StopReply",
    "abcast",
    "call",
    "cast",
    "multi_call",
    "reply",
    "send_request",
    "start",
    "start_link",
    "stop",
]

State = TypeVar("State")

_MODULE: Final = Atom("gen_server")
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


InitResult: TypeAlias = Ok[State] | Stop[State] | Ignore
CallResult: TypeAlias = Reply[State] | NoReply[State] | Stop[State] | StopReply[State]
Result: TypeAlias = NoReply[State] | Stop[State]


class GenServer(Generic[State]):
    """The callbacks. Only `init` and those for what is really sent must be there.

    A call or cast that no callback takes, and any other message without `handle_info`, terminates
    the server.
    """

    def init(self, args: Any) -> InitResult[State] | Awaitable[InitResult[State]]:  # noqa: ANN401
        """Make the state."""
        raise NotImplementedError

    def handle_call(
        self,
        message: Any,  # noqa: ANN401  # any term
        from_: From,
        state: State,
    ) -> CallResult[State] | Awaitable[CallResult[State]]:
        """Take a call."""
        raise Exit((Atom("bad_call"), message))

    def handle_cast(
        self,
        message: Any,  # noqa: ANN401  # any term
        state: State,
    ) -> Result[State] | Awaitable[Result[State]]:
        """Take a cast."""
        raise Exit((Atom("bad_cast"), message))

    def handle_info(
        self,
        info: Any,  # noqa: ANN401  # any term
        state: State,
    ) -> Result[State] | Awaitable[Result[State]]:
        """Take a message that is neither a call nor a cast, and `timeout`."""
        raise Exit((Atom("bad_info"), info))

    def handle_continue(
        self,
        content: Any,  # noqa: ANN401  # any term
        state: State,
    ) -> Result[State] | Awaitable[Result[State]]:
        """Do what a result put off with `Continue`."""
        raise Exit((Atom("bad_continue"), content))

    def terminate(self, reason: Term, state: State) -> object:
        """Clean up; the result is ignored, and may be awaitable."""

    def code_change(self, old_version: Term, state: State, extra: Term) -> State | Awaitable[State]:
        """Give the state for the code of today, when `sys:change_code` asks for it."""
        del old_version, extra
        return state


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


class _Engine(server.Server):
    """Runs a `GenServer`."""

    __slots__ = ("_state", "_timer")

    behaviour: ClassVar[Atom] = _MODULE

    def __init__(self, process: Process, module: Any) -> None:  # noqa: ANN401
        super().__init__(process, module)
        self._state: Any = None
        self._timer: _Timer | None = None

    async def initialise(self, args: Term) -> None:
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

    def handle(self, message: Term) -> server.Waiting:
        if self._timer is not None:
            message = self._timed(message)
        if type(message) is tuple:
            if len(message) == 2 and message[0] == _CAST:
                try:
                    result = self.module.handle_cast(message[1], self._state)
                except Exception as error:  # noqa: BLE001  # its end, with terminate
                    return self.stop(of_exception(error), error)
                if type(result) is NoReply and result[1] is None:
                    self._state = result[0]
                    return None
                return self._after(result, None)
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
        await server.settled(self.module.terminate(reason, self._state))

    def state(self) -> Term:
        return self._state

    def replace_state(self, change: Callable[[Term], Term]) -> Term:
        self._state = change(self._state)
        return self._state

    def shown(self, message: Term) -> Term:
        if type(message) is _Timer:
            return _TIMEOUT if message is self._timer else server.HIDDEN
        return server.HIDDEN if type(message) is _Next else message

    async def change_code(self, old_version: Term, extra: Term) -> None:
        changed = self.module.code_change(old_version, self._state, extra)
        self._state = await server.settled(changed)


async def start(
    module: type[GenServer[Any]] | GenServer[Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a server that is linked to nobody; see `erlang_port.otp.starting.start`."""
    return await starting.start(_Engine, module, args, name=name, timeout=timeout)


async def start_link(
    module: type[GenServer[Any]] | GenServer[Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a server linked to the process that runs now; see `erlang_port.otp.starting.start`."""
    return await starting.start(_Engine, module, args, name=name, link=True, timeout=timeout)


async def call(
    server: Term,
    message: Term,
    timeout: float | None = CALL_TIMEOUT,
) -> Term:
    """Call a server; its answer.

    Args:
        server: As `erlang_port.otp.runtime.Runtime.whereis` takes it.
        message: What `handle_call` gets.
        timeout: Seconds, or None.

    Raises:
        Exit: `{Reason, {gen_server, call, [Server, Message]}}`.
    """
    return await gen.call(server, gen.CALL, message, timeout, _MODULE)


def cast(server: Term, message: Term) -> None:
    """Send a server a message and wait for nothing; it never fails."""
    gen.send(server, (_CAST, message))


def reply(from_: From, value: Term) -> None:
    """Answer a call whose `handle_call` gave `NoReply`; from anywhere, once."""
    from_.tag.reply(value)


async def stop(
    server: Term,
    reason: Term = "normal",
    timeout: float | None = None,
) -> None:
    """Have a server terminate, and wait for its end.

    Raises:
        Exit: There was none, it ended with another reason, or not in time.
    """
    await gen.stop(server, reason, timeout)


def send_request(server: Term, message: Term) -> Request:
    """Call a server without waiting: `await request.response(timeout)` does, once."""
    return gen.request(server, gen.CALL, message, _MODULE)


def abcast(nodes: Iterable[Term], name: Term, message: Term) -> None:
    """Cast to the servers of a name at several nodes; it never fails.

    Args:
        nodes: Their names; those of `erlang_port.otp.node`, if nothing else is known.
        name: The servers' local name.
        message: What `handle_cast` gets.
    """
    for node in nodes:
        cast((name, node), message)


async def multi_call(
    nodes: Iterable[Term],
    name: Term,
    message: Term,
    timeout: float | None = None,
) -> tuple[list[tuple[Term, Term]], list[Term]]:
    """Call the servers of a name at several nodes at once.

    Args:
        nodes: As for `abcast`.
        name: The servers' local name.
        message: What `handle_call` gets.
        timeout: Seconds, or None: 30 at other nodes and for servers of Erlang's.

    Returns:
        Answers, each with its node, and the nodes that gave none: the server is not there, has
        ended, did not answer in time or may not be reached, or the node is not connected.
    """

    async def ask(node: Term) -> tuple[Term, Term] | None:
        try:
            return node, await call((name, node), message, timeout)
        except Exit:
            return None

    asked = list(nodes)
    answers = await asyncio.gather(*map(ask, asked))
    good = [answer for answer in answers if answer is not None]
    return good, [node for node, answer in zip(asked, answers, strict=True) if answer is None]
