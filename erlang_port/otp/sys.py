"""System messages: looking into a running process, as OTP's `sys` does.

Every function works on processes of this runtime; for a process that is exposed at the node, the
node's own `sys` works as well.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen
from erlang_port.otp.reasons import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlang_port.otp.process import Process

_log = logging.getLogger("megaphone.otp.trace")

_SYS: Final = Atom("sys")
_OK: Final = Atom("ok")
#: Messages that `log` keeps unless told otherwise, as in OTP.
LOG_SIZE: Final = 10


class Debug:
    """What `sys:trace`, `sys:log` and `sys:statistics` keep of a process."""

    def __init__(self) -> None:
        self.trace = False
        self._log: deque[Term] | None = None
        self._counts: list[int] | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything is to be kept."""
        return self.trace or self._log is not None or self._counts is not None

    def received(self, process: Process, message: Term) -> None:
        """Take a message of the process.

        Tracing shows what kind of message came, never what is in it: that may be somebody's text.
        """
        if self._counts is not None:
            self._counts[0] += 1
        if self._log is not None:
            self._log.append((Atom("in"), message))
        if self.trace:
            _log.info("*DBG* %s got %s", process.label, kind(message))

    def change(self, what: Term) -> Term:
        """Answer `{debug, What}`."""
        match what:
            case ("trace", bool(on)):
                self.trace = on
            case ("log", bool(on)):
                self._log = deque(maxlen=LOG_SIZE) if on else None
            case ("log", (bool(), int(size))) if size > 0:
                self._log = deque(self._log or (), maxlen=size)
            case ("log", "get"):
                return _OK, list(self._log or ())
            case ("statistics", bool(on)):
                self._counts = [0] if on else None
            case ("statistics", "get"):
                if self._counts is None:
                    return _OK, Atom("no_statistics")
                return _OK, [(Atom("messages_in"), self._counts[0])]
            case "no_debug":
                self.trace, self._log, self._counts = False, None, None
            case _:
                return Atom("error"), Atom("unknown_debug")
        return _OK

    def options(self) -> list[Term]:
        """What `sys:get_status` shows."""
        return [
            *([(Atom("trace"), True)] if self.trace else []),
            *([(Atom("log"), len(self._log))] if self._log is not None else []),
            *([(Atom("statistics"), True)] if self._counts is not None else []),
        ]


def kind(message: Term) -> str:
    """What kind of message it is, and nothing of what is in it."""
    if type(message) is tuple and message and isinstance(message[0], str):
        return {"$gen_call": "a call", "$gen_cast": "a cast"}.get(
            message[0], f"{{{message[0]}, ..}}"
        )
    return "a message"


async def get_state(server: Term, timeout: float | None = gen.CALL_TIMEOUT) -> Term:
    """The state of a server.

    Raises:
        Exit: There is none, or it did not answer in time.
    """
    return _opened(await _ask(server, Atom("get_state"), timeout))


async def replace_state(
    server: Term,
    change: Callable[[Term], Term],
    timeout: float | None = gen.CALL_TIMEOUT,
) -> Term:
    """Change the state of a server; the new one.

    Raises:
        Exit: As for `get_state`; `{callback_failed, _}`: the change raised, and nothing changed.
    """
    return _opened(await _ask(server, (Atom("replace_state"), change), timeout))


async def get_status(server: Term, timeout: float | None = gen.CALL_TIMEOUT) -> Term:
    """The status of a server, in the shape of `sys:get_status/1`."""
    return await _ask(server, Atom("get_status"), timeout)


async def suspend(server: Term, timeout: float | None = gen.CALL_TIMEOUT) -> None:
    """Have a server take system messages only; the others wait."""
    await _ask(server, Atom("suspend"), timeout)


async def resume(server: Term, timeout: float | None = gen.CALL_TIMEOUT) -> None:
    """Have a suspended server go on, with what waits first."""
    await _ask(server, Atom("resume"), timeout)


async def change_code(
    server: Term,
    old_version: Term,
    extra: Term,
    timeout: float | None = gen.CALL_TIMEOUT,
) -> Term:
    """Run `code_change` of a suspended server; `ok` or `{error, Reason}`."""
    request = (Atom("change_code"), Atom("undefined"), old_version, extra)
    return await _ask(server, request, timeout)


async def terminate(
    server: Term,
    reason: Term,
    timeout: float | None = gen.CALL_TIMEOUT,
) -> None:
    """Have a server terminate with a reason."""
    await _ask(server, (Atom("terminate"), reason), timeout)


async def trace(server: Term, on: bool, timeout: float | None = gen.CALL_TIMEOUT) -> None:
    """Have each message of a server logged, by its kind."""
    await _ask(server, (Atom("debug"), (Atom("trace"), on)), timeout)


async def debug(server: Term, what: Term, timeout: float | None = gen.CALL_TIMEOUT) -> Term:
    """Send `{debug, What}`: `{log, _}`, `{statistics, _}`, `no_debug`; its answer."""
    return await _ask(server, (Atom("debug"), what), timeout)


async def _ask(server: Term, request: Term, timeout: float | None) -> Term:
    try:
        return await gen.call(server, gen.SYSTEM, request, timeout, _SYS)
    except Exit as error:
        function, *arguments = request if type(request) is tuple else (request,)
        raise Exit((error.reason[0], (_SYS, function, [server, *arguments]))) from None


def _opened(answer: Term) -> Term:
    match answer:
        case ("ok", state):
            return state
        case (_, reason):
            raise Exit(reason)
    raise Exit((Atom("bad_return"), answer))
