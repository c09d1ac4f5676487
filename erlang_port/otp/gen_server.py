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
from collections.abc import Awaitable, Iterable
from typing import Any, Final, Generic, TypeAlias

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen, starting
from erlang_port.otp.gen import CALL_TIMEOUT, From, Hibernate, Request, StartError
from erlang_port.otp.gen_server_engine import (
    Continue,
    GenServerEngine,
    Ignore,
    NoReply,
    Ok,
    Reply,
    State,
    Stop,
    StopReply,
)
from erlang_port.otp.process import Process
from erlang_port.otp.reasons import Exit

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

_MODULE: Final = Atom("gen_server")
_CAST: Final = gen.CAST

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


async def start(
    module: type[GenServer[Any]] | GenServer[Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a server that is linked to nobody; see `erlang_port.otp.starting.start`."""
    return await starting.start(GenServerEngine, module, args, name=name, timeout=timeout)


async def start_link(
    module: type[GenServer[Any]] | GenServer[Any],
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
    timeout: float | None = None,
) -> Process | None:
    """Start a server linked to the process that runs now; see `erlang_port.otp.starting.start`."""
    return await starting.start(
        GenServerEngine, module, args, name=name, link=True, timeout=timeout
    )


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
    if type(server) is Process:
        server.send((_CAST, message))
    else:
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
