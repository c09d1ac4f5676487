"""Values of this runtime as terms that the node can have."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Final, TypeAlias

from erlang_port.etf import Atom, EtfError, ImproperList, Map, Term, encode
from erlang_port.otp.process import Process, Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlang_port.etf import Pid

    Proxy: TypeAlias = Callable[[Process], Pid | None]

_PROCESS: Final = Atom("python_process")
_REFERENCE: Final = Atom("python_reference")
#: Bytes of a value's `repr`.
MAX_REPR: Final = 1000
#: Nesting beyond which only a `repr` is given.
MAX_DEPTH: Final = 50
#: Values of one conversion: a list in itself, or in another twice and that one again, has no end.
#: Default 100,000: a tenth of a second.
MAX_VALUES: Final = 100_000

#: A `repr` that neither depth nor size makes endless.
_repr = reprlib.Repr()
_repr.maxother = _repr.maxstring = MAX_REPR
_repr.maxlevel = 3


def encode_outward(value: Term, proxy: Proxy) -> bytes:
    """Encode what the node gets of a value, which may be any; see `outward`."""
    try:
        return encode(value)
    except EtfError:
        pass
    try:
        return encode(outward(value, proxy))
    except EtfError:
        # Too much of it, or two keys that are one in Erlang.
        return encode(_shown(value))


def outward(value: Term, proxy: Proxy) -> Term:
    """What the node gets of a value.

    An exposed process becomes its proxy's pid, another `{python_process, Id, Label}`; what Erlang
    has no term for becomes the binary of its `repr`.

    Args:
        value: Any value.
        proxy: The pid of a process's proxy, if it has one.

    Raises:
        EtfError: There are more than `MAX_VALUES` in it.
    """
    return _Outward(proxy).of(value, 0)


class _Outward:
    """One conversion, which is bounded as a whole."""

    __slots__ = ("_left", "_proxy")

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._left = MAX_VALUES

    def of(self, value: Term, depth: int) -> Term:  # noqa: C901  # a case for each type
        self._left -= 1
        if self._left < 0:
            raise EtfError(f"more than {MAX_VALUES} values, not all of which are terms", 0)
        if depth > MAX_DEPTH:
            return _shown(value)
        depth += 1
        if isinstance(value, Process):
            pid = self._proxy(value)
            label = value.label.encode(errors="replace")
            return (_PROCESS, value.id, label) if pid is None else pid
        if isinstance(value, Reference):
            return _REFERENCE
        if isinstance(value, tuple):
            return tuple(self.of(item, depth) for item in value)
        if isinstance(value, list):
            return [self.of(item, depth) for item in value]
        if isinstance(value, ImproperList) and value.items:
            items = [self.of(item, depth) for item in value.items]
            return ImproperList(items, self.of(value.tail, depth))
        if isinstance(value, dict):
            pairs = {self.of(key, depth): self.of(item, depth) for key, item in value.items()}
            # Not if keys have become one.
            return pairs if len(pairs) == len(value) else _shown(value)
        if isinstance(value, Map):
            return Map(tuple((self.of(k, depth), self.of(item, depth)) for k, item in value.pairs))
        try:
            encode(value)
        except EtfError:
            return _shown(value)
        return value


def _shown(value: Term) -> bytes:
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001  # whatever a `__repr__` raises
        text = f"<{type(value).__qualname__}>"
    return text.encode(errors="replace")[:MAX_REPR]
