"""Values of this runtime as terms that the node can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from erlang_port.etf import Atom, EtfError, ImproperList, Map, Term, encode
from erlang_port.otp.process import Process, Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlang_port.etf import Pid

_PROCESS: Final = Atom("python_process")
_REFERENCE: Final = Atom("python_reference")
#: Bytes of a value's `repr`.
_MAX_REPR: Final = 1000
#: Nesting beyond which only a `repr` is given.
_MAX_DEPTH: Final = 50


def outward(value: Term, proxy: Callable[[Process], Pid | None], depth: int = 0) -> Term:
    """What the node gets of a value.

    An exposed process becomes its proxy's pid, another `{python_process, Id, Label}`; what Erlang
    has no term for becomes the binary of its `repr`.
    """
    if depth > _MAX_DEPTH:
        return _shown(value)
    if isinstance(value, Process):
        pid = proxy(value)
        return (_PROCESS, value.id, value.label.encode()) if pid is None else pid
    if isinstance(value, Reference):
        return _REFERENCE
    if isinstance(value, tuple):
        return tuple(outward(item, proxy, depth + 1) for item in value)
    if isinstance(value, list):
        return [outward(item, proxy, depth + 1) for item in value]
    if isinstance(value, ImproperList):
        items = [outward(item, proxy, depth + 1) for item in value.items]
        return ImproperList(items, outward(value.tail, proxy, depth + 1))
    if isinstance(value, dict):
        return {
            outward(key, proxy, depth + 1): outward(item, proxy, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, Map):
        return value
    try:
        encode(value)
    except EtfError:
        return _shown(value)
    return value


def _shown(value: Term) -> bytes:
    return repr(value).encode(errors="replace")[:_MAX_REPR]
