"""Exit reasons, in Python and as Erlang sees them."""

import traceback
from typing import Final

from erlang_port.etf import Atom, Term

NORMAL: Final = Atom("normal")
SHUTDOWN: Final = Atom("shutdown")
KILL: Final = Atom("kill")
KILLED: Final = Atom("killed")
NOPROC: Final = Atom("noproc")
TIMEOUT: Final = Atom("timeout")

#: Written as plain strings more often than not, and atoms to whoever sees them.
_ATOMS: Final[dict[str, Atom]] = {
    reason: reason for reason in (NORMAL, SHUTDOWN, KILL, KILLED, NOPROC, TIMEOUT)
}
_PYTHON_ERROR: Final = Atom("python_error")


class Exit(Exception):  # noqa: N818  # OTP's word
    """An exit with a reason: what a call raises, and what a process may raise to end.

    Attributes:
        reason: Any term. `normal`, `shutdown`, `kill`, `killed`, `noproc` and `timeout` may be
            given as `str`.
    """

    def __init__(self, reason: Term) -> None:
        super().__init__(reason)
        self.reason = as_reason(reason)


def as_reason(reason: Term) -> Term:
    """The reason with OTP's own words as atoms."""
    return _ATOMS.get(reason, reason) if type(reason) is str else reason


def of_exception(error: BaseException) -> Term:
    """The reason of a process that an exception has ended.

    Returns:
        For `Exit` its reason; else, in the shape of an error in Erlang,
        `{{python_error, Type, Message}, Traceback}`: binaries, and a list of them, innermost last.
    """
    if isinstance(error, Exit):
        return error.reason
    lines = [
        line.encode(errors="replace")
        for entry in traceback.format_tb(error.__traceback__)
        for line in entry.rstrip().split("\n")
    ]
    kind = type(error).__qualname__.encode()
    return (_PYTHON_ERROR, kind, str(error).encode(errors="replace")), lines


def is_quiet(reason: Term) -> bool:
    """Whether OTP would log nothing: normal, shutdown and {shutdown, _}."""
    if isinstance(reason, str):
        return reason in {"normal", "shutdown"}
    return type(reason) is tuple and len(reason) == 2 and reason[0] == "shutdown"
