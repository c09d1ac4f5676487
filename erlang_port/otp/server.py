"""A process that runs a callback module: callbacks plain or async, system messages, the end.

What `gen` and `sys` do for OTP's behaviours; `starting` starts it. A behaviour's engine derives
from `Server` and says what its messages mean (`handle`), its state (`state`, `replace_state`), and
how it terminates (`terminate`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen
from erlang_port.otp.reasons import Exit, is_quiet, of_exception
from erlang_port.otp.sys import Debug

if TYPE_CHECKING:
    from erlang_port.otp.process import Process

_log = logging.getLogger("megaphone.otp")

_OK: Final = Atom("ok")
_RUNNING: Final = Atom("running")
_SUSPENDED: Final = Atom("suspended")

#: What `Server.shown` gives for what is no message but to the behaviour itself.
HIDDEN: Final = object()

#: What a message's handling leaves to be waited for.
Waiting = Coroutine[Any, Any, None] | None


class Ignored(Exception):  # noqa: N818  # OTP's word
    """`init` said `Ignore`: the process ends as if nothing had been."""


class Server:
    """One server: its process, and what every behaviour does in the same way.

    Attributes:
        process: The process.
        module: The callback module, an object.
    """

    __slots__ = ("_held", "debug", "module", "process")

    #: OTP's name of the behaviour, for `sys:get_status` and the log.
    behaviour: ClassVar[Atom]

    def __init__(self, process: Process, module: Any) -> None:  # noqa: ANN401  # whatever has the callbacks
        self.process = process
        self.module = module
        self.debug: Debug | None = None
        self._held: deque[Term] | None = None

    # What a behaviour says.

    async def initialise(self, args: Term) -> None:
        """Run the module's `init`.

        Raises:
            Ignored: It does not want to be started.
            Exit: It cannot.
        """
        raise NotImplementedError

    def begun(self) -> Waiting:
        """Do what comes before the first message: who started it has its pid by now."""
        return None

    def handle(self, message: Term) -> Waiting:
        """Take a message that is no system message."""
        raise NotImplementedError

    async def terminate(self, reason: Term) -> None:
        """Run the module's `terminate`, if it has one."""
        raise NotImplementedError

    def state(self) -> Term:
        """What `sys:get_state` shows."""
        raise NotImplementedError

    def replace_state(self, change: Callable[[Term], Term]) -> Term:
        """Change the state, for `sys:replace_state`; the new one."""
        raise NotImplementedError

    def misc(self) -> Term:
        """What `sys:get_status` shows beside the state."""
        return []

    def shown(self, message: Term) -> Term:
        """A message as `sys:log` shows it: a behaviour's own ones are no terms, or `HIDDEN`."""
        return message

    async def change_code(self, old_version: Term, extra: Term) -> None:
        """Run the module's `code_change`, if it has one."""
        raise NotImplementedError

    @property
    def _parent(self) -> Process:
        """Who started it linked; as in OTP, who was not started so is its own parent."""
        return self.process.parent or self.process

    # Messages.

    def receive(self, message: Term) -> Waiting:
        """Take any message."""
        if type(message) is tuple and message:
            tag = message[0]
            if tag == gen.SYSTEM and len(message) == 3:
                return self._system(message[1], message[2])
            if tag == gen.EXIT and len(message) == 3 and message[1] is self._parent:
                # gen_server(3): its parent's end is its own, whatever it traps.
                return self.stop(message[2])
        if self.debug is not None and (shown := self.shown(message)) is not HIDDEN:
            self.debug.received(self.process, shown)
        return self.handle(message)

    def stop(
        self,
        reason: Term,
        error: BaseException | None = None,
        last: Callable[[], None] | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Terminate and end; to be returned from `handle`, or awaited.

        Args:
            reason: Why.
            error: The exception that it comes from, for the log.
            last: Done between the two: a call that stops its server is answered after `terminate`.
        """
        return self._stop(reason, error, last)

    async def _stop(
        self,
        reason: Term,
        error: BaseException | None,
        last: Callable[[], None] | None,
    ) -> None:
        try:
            await self.terminate(reason)
        except Exception as failure:  # noqa: BLE001  # as in OTP, what terminate raises is the reason
            reason, error = of_exception(failure), failure
        if last is not None:
            last()
        if not is_quiet(reason):
            _log.error(
                "%s %s terminating: %s",
                self.behaviour,
                self.process.label,
                describe(reason),
                exc_info=error if error is not None and not isinstance(error, Exit) else None,
            )
        self.process.end(reason)

    # System messages (sys(3), "System Messages").

    def _system(self, from_: gen.From, request: Term) -> Waiting:  # noqa: C901  # a case for each
        match request:
            case "get_state":
                self._answer(from_, "get_state", self.state)
            case ("replace_state", change):
                self._answer(from_, "replace_state", lambda: self.replace_state(change))
            case "get_status":
                from_.tag.reply(self._status())
            case "suspend":
                if self._held is None:
                    self._held = deque()
                    self.process.become(self._receive_suspended)
                from_.tag.reply(_OK)
            case "resume":
                if self._held is not None:
                    held, self._held = self._held, None
                    self.process.put_back(held)
                    self.process.become(self.receive)
                from_.tag.reply(_OK)
            case ("terminate", reason):
                from_.tag.reply(_OK)
                return self.stop(reason)
            case ("change_code", _, old_version, extra) if self._held is not None:
                return self._change_code(from_, old_version, extra)
            case ("debug", what):
                from_.tag.reply(self._debug(what))
            case _:
                from_.tag.reply((Atom("error"), (Atom("unknown_system_msg"), request)))
        return None

    def _receive_suspended(self, message: Term) -> Waiting:
        if type(message) is tuple and len(message) == 3:
            if message[0] == gen.SYSTEM:
                return self._system(message[1], message[2])
            if message[0] == gen.EXIT and message[1] is self._parent:
                return self.stop(message[2])
        assert self._held is not None  # noqa: S101  # only while it is suspended
        self._held.append(message)
        return None

    def _answer(self, from_: gen.From, what: str, ask: Callable[[], Term]) -> None:
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001  # a callback's error is the asker's
            kind = Atom("exit" if isinstance(error, Exit) else "error")
            failed = (self.behaviour, Atom(f"system_{what}")), (kind, of_exception(error))
            from_.tag.reply((Atom("error"), (Atom("callback_failed"), *failed)))
        else:
            from_.tag.reply((_OK, answer))

    def _status(self) -> Term:
        process = self.process
        return (
            Atom("status"),
            process,
            (Atom("module"), self.behaviour),
            [
                [],
                _RUNNING if self._held is None else _SUSPENDED,
                self._parent,
                [] if self.debug is None else self.debug.options(),
                [
                    (Atom("header"), f"Status for {self.behaviour} {process.label}".encode()),
                    (Atom("data"), [(b"Module", type(self.module).__qualname__.encode())]),
                    (Atom("data"), [(b"State", self.state())]),
                    *([] if (misc := self.misc()) == [] else [misc]),
                ],
            ],
        )

    async def _change_code(self, from_: gen.From, old_version: Term, extra: Term) -> None:
        try:
            await self.change_code(old_version, extra)
        except Exception as error:  # noqa: BLE001  # as in OTP, the server goes on as it was
            from_.tag.reply((Atom("error"), (gen.EXIT, of_exception(error))))
        else:
            from_.tag.reply(_OK)

    def _debug(self, what: Term) -> Term:
        debug = self.debug or Debug()
        answer = debug.change(what)
        self.debug = debug if debug.wanted else None
        return answer


def describe(reason: Term) -> str:
    """A reason for the log: without the values that a term may hold, which may be messages."""
    match reason:
        case ((kind, bytes(name), bytes(text)), list()) if kind == "python_error":
            return f"{name.decode(errors='replace')}: {text.decode(errors='replace')}"
        case ("exit_status", int(status)):
            return f"exit status {status}"
        case ("shutdown", ("failed_to_start_child", child, why)):
            return f"{child} did not start: {describe(why)}"
        case str():
            return str(reason)
        case (str(first), *_):
            return f"{{{first}, ...}}"
    return type(reason).__name__


async def settled(value: Awaitable[Any] | Any) -> Any:  # noqa: ANN401  # a callback's result
    """A callback's result, whether the callback was async or not."""
    return await value if isinstance(value, Awaitable) else value
