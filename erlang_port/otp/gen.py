"""What the behaviours have in common: starting a server, and calls (OTP's `gen` and `proc_lib`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from erlang_port.etf import Atom, Term
from erlang_port.otp.process import Process, Reference
from erlang_port.otp.reasons import NOPROC, TIMEOUT, Exit, as_reason
from erlang_port.otp.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

CALL: Final = Atom("$gen_call")
CAST: Final = Atom("$gen_cast")
SYSTEM: Final = Atom("system")
EXIT: Final = Atom("EXIT")

_CALL: Final = Atom("call")

#: Seconds that a call waits unless told otherwise, as in OTP.
CALL_TIMEOUT: Final = 5.0


class Caller(Protocol):
    """Takes the answer of a call.

    Attributes:
        deadline: When nobody waits any more, on the monotonic clock in seconds; None: not known.
    """

    deadline: float | None

    def reply(self, value: Term) -> None:
        """Answer; from the second time on nothing happens."""


class From(NamedTuple):
    """Who called: the pid, if it was a process, and what takes the answer."""

    pid: Term
    tag: Caller


class Hibernate(NamedTuple):
    """OTP gives memory back; here nothing happens: an idle process has no task and no mailbox."""

    hibernate: bool = True


class StartError(Exit):
    """A server was not started; a process that does not catch it ends with the same reason.

    Attributes:
        reason: What its `init` said, `{already_started, Pid}`, or `timeout`.
    """


class Request(Reference):
    """A call on its way: the caller's alias and monitor, and what waits for the answer."""

    __slots__ = ("_answer", "_label", "_process", "_task", "deadline")

    def __init__(self, label: Callable[[], Term]) -> None:
        self._answer: asyncio.Future[Term] = asyncio.get_running_loop().create_future()
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._label = label
        # Not known here, as in OTP: a server takes a call whose caller has given up.
        self.deadline: float | None = None

    def send(self, process: Process, message: Term) -> None:
        """Send the request, and learn of its receiver's end."""
        if process.exit_reason is not None:
            self.refuse(NOPROC)
            return
        self._process = process
        process.watch(self, self)
        process.send(message)

    def reply(self, value: Term) -> None:
        """See `Caller`."""
        if not self._answer.done():
            self._answer.set_result(value)
        self.abandon()

    def refuse(self, reason: Term) -> None:
        """Have the call exit."""
        if not self._answer.done():
            self._answer.set_exception(Exit((reason, self._label())))
            # Nobody may ever ask, which is not for the loop to log.
            self._answer.exception()
        self.abandon()

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        """See `erlang_port.otp.process.Watcher`."""
        del reference, process
        self._process = None
        self.refuse(reason)

    def follow(self, answer: Coroutine[Any, Any, Term]) -> None:
        """Take the answer of a call to the node."""

        async def wait() -> None:
            try:
                self.reply(await answer)
            except Exit as error:
                self.refuse(error.reason)

        self._task = asyncio.get_running_loop().create_task(wait())

    def abandon(self) -> None:
        """Want no answer any more."""
        if self._process is not None:
            self._process.unwatch(self)
            self._process = None

    async def response(self, timeout: float | None) -> Term:
        """Wait for the answer.

        Raises:
            Exit: The server ended, or there was no answer in time.
        """
        try:
            if not self._answer.done():
                async with asyncio.timeout(timeout):
                    await asyncio.wait({self._answer})
        except TimeoutError:
            pass
        finally:
            if not self._answer.done():
                # What comes from now on is dropped: nobody waits.
                self.refuse(TIMEOUT)
        return self._answer.result()

    @property
    def answered(self) -> bool:
        """Whether `response` would not wait."""
        return self._answer.done()


def request(
    server: Term,
    kind: Atom,
    content: Term,
    module: Atom,
    function: Atom = _CALL,
) -> Request:
    """Send a call without waiting for its answer.

    Args:
        server: As `Runtime.whereis` takes it.
        kind: `$gen_call`, or another that a behaviour answers.
        content: What to ask.
        module: Whose call this is, for the reason.
        function: And its name there.
    """
    runtime = Runtime.here()
    target = runtime.whereis(server)
    caller = runtime.running
    sent = Request(lambda: (module, function, [server, content]))
    if target is None:
        sent.refuse(NOPROC)
    elif not isinstance(target, Process):
        sent.follow(runtime.at_node().call(kind, target, content, None))
    elif target is caller:
        sent.refuse(Atom("calling_self"))
    else:
        sent.send(target, (kind, From(caller, sent), content))
    return sent


async def call(
    server: Term,
    kind: Atom,
    content: Term,
    timeout: float | None,
    module: Atom,
    function: Atom = _CALL,
) -> Term:
    """Call a server and wait for its answer.

    Args:
        server: As `Runtime.whereis` takes it.
        kind: As for `request`.
        content: What to ask.
        timeout: Seconds, or None.
        module: As for `request`.
        function: As for `request`.

    Raises:
        Exit: `{Reason, {Module, Function, [Server, Request]}}`, with `noproc`, `timeout`,
            `calling_self`, or why the server ended.
    """
    runtime = Runtime.here()
    target = runtime.whereis(server)
    if target is None or isinstance(target, Process):
        return await request(server, kind, content, module, function).response(timeout)
    try:
        # Its timeout travels.
        return await runtime.at_node().call(kind, target, content, timeout)
    except Exit as error:
        raise Exit((error.reason, (module, function, [server, content]))) from None


async def stop(
    server: Term,
    reason: Term,
    timeout: float | None,
) -> None:
    """Have a server terminate, and wait for its end (`proc_lib:stop/3`).

    Raises:
        Exit: `noproc`, `timeout`, or the reason with which it ended, if that is another.
    """
    reason = as_reason(reason)
    process = Runtime.here().whereis(server)
    if not isinstance(process, Process):
        raise Exit(NOPROC)
    ended = Request(lambda: None)
    ended.send(process, (SYSTEM, From(None, _NOBODY), (Atom("terminate"), reason)))
    try:
        await ended.response(timeout)
    except Exit as error:
        why = error.reason[0]
        if why != reason:
            raise Exit(why) from None


class _Nobody:
    deadline: float | None = None

    def reply(self, value: Term) -> None:
        """Nobody waits for this answer."""


_NOBODY: Final = _Nobody()


def send(server: Term, message: Term) -> None:
    """Send a message to a process or a name; it never fails."""
    if isinstance(server, Process):
        server.send(message)
        return
    runtime = Runtime.here()
    target = runtime.whereis(server)
    if isinstance(target, Process):
        target.send(message)
    elif target is not None:
        runtime.at_node().send(runtime.running, target, message)
