"""A term to bytes however deep it is nested: one loop with a stack of iterators."""

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from struct import Struct
from typing import NoReturn

from erlang_port.etf.atoms import MAX_ATOM, MAX_CACHED
from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import Limits
from erlang_port.etf.terms import (
    Atom,
    BitString,
    ImproperList,
    LocalTerm,
    Map,
    NativeRecord,
    Opaque,
    Term,
)

_u8 = Struct(">BB").pack
_u32 = Struct(">BI").pack
_i32 = Struct(">Bi").pack
_f64 = Struct(">Bd").pack
_u32_u8 = Struct(">BIB").pack

#: What a binary, a tuple and an integer begin with, by length or value below 256.
HEADS = [_u32(109, size) for size in range(256)]
TUPLES = [bytes((104, size)) for size in range(256)]
SMALL_INTEGERS = [bytes((97, value)) for value in range(256)]
#: The bytes of atoms written so far.
ATOMS: dict[Atom, bytes] = {}

#: Two keys of these types that a dict keeps apart are not written alike; nor are two of type str.
_APART = {bytes, Atom, int, float}
#: How deep a key may be nested to be compared with others. What is in a key of a key of a key is
#: written again at each level: so that is at most as often.
_COMPARED_DEPTH = 8

#: The atoms that have a value of their own in Python.
CONSTANTS = {None: b"w\tundefined", True: b"w\x04true", False: b"w\x05false"}


class Parts(list[bytes]):
    """A term's bytes, piece by piece.

    Attributes:
        long: How many bytes are in the long pieces. One text may be in a term a million times, so
            they are counted before there are too many to be kept.
    """

    long = 0


#: The longest piece that is not counted: an atom of 255 characters, four bytes each.
MAX_SHORT = 1023


class _End:
    """What stands after a list's elements: the empty list as its tail."""

    __slots__ = ()


_END = _End()


def count_long(size: int, parts: Parts, limits: Limits) -> None:
    """Count a piece of so many bytes; refuse what is too long."""
    parts.long += size
    if parts.long > limits.max_size:
        raise EtfError(f"the term has more than {limits.max_size} bytes", len(parts))


def long_head(size: int, parts: Parts, limits: Limits) -> bytes:
    """What a binary begins with that is too long for `HEADS`."""
    count_long(size, parts, limits)
    return _u32(109, size)


def too_many(parts: Parts, limits: Limits) -> NoReturn:
    """Refuse a term with too many terms in it."""
    raise EtfError(f"more than {limits.max_terms} terms", len(parts))


def write_deep(  # noqa: C901  # one loop, for whatever nesting
    term: Term, parts: Parts, limits: Limits, above: int = 0, *, compare: bool = True
) -> None:
    """Append a term's bytes.

    Args:
        term: The term.
        parts: Where to; a term takes one part or two, which bounds how many terms there can be.
        limits: What the whole term may cost.
        above: How many containers the term lies in.
        compare: Whether to look for keys of a map that are written alike.

    Raises:
        EtfError: A value that Erlang has no term for, or the term is beyond the limits.
    """
    add = parts.append
    most = 2 * limits.max_terms
    max_depth = limits.max_depth - above
    stack: list[Iterator[Term]] = []
    todo: Iterator[Term] = iter((term,))
    while True:
        for value in todo:
            kind = type(value)
            if kind is bytes:
                size = len(value)
                add(HEADS[size] if size < 256 else long_head(size, parts, limits))
                add(value)
                continue
            if kind is Atom:
                add(ATOMS[value] if value in ATOMS else write_atom(value, parts, limits))
                continue
            if kind is tuple:
                size = len(value)
                add(TUPLES[size] if size < 256 else _u32(105, size))
                inner: Iterator[Term] = iter(value)
            elif kind is list:
                if not value:
                    add(b"j")
                    continue
                size = len(value)
                add(_u32(108, size))
                inner = chain(value, (_END,))
            elif kind is int:
                add(_integer(value, parts, limits))
                continue
            elif kind is str:
                text = value.encode()
                size = len(text)
                add(HEADS[size] if size < 256 else long_head(size, parts, limits))
                add(text)
                continue
            elif kind is _End:
                add(b"j")
                continue
            elif value is None or kind is bool:
                add(CONSTANTS[value])
                continue
            elif kind is dict:
                size = 2 * len(value)
                add(_u32(116, len(value)))
                if compare:
                    refuse_twins(value, parts, limits)
                inner = chain.from_iterable(value.items())
            elif kind is float:
                if value - value != 0.0:
                    raise EtfError("Erlang has no float that is infinite or no number", len(parts))
                add(_f64(70, value))
                continue
            else:
                if compare and isinstance(value, Map):
                    _refuse_twins(tuple(value), parts, limits)
                size, rest = _other(value, parts, limits)
                if not size:
                    continue
                inner = iter(rest)
            if len(parts) + size > most:
                too_many(parts, limits)
            if len(stack) >= max_depth:
                raise EtfError(f"nested more than {limits.max_depth} deep", len(parts))
            stack.append(todo)
            todo = inner
            break
        else:
            if not stack:
                return
            todo = stack.pop()


def write_atom(value: Atom, parts: Parts, limits: Limits) -> bytes:
    """Give an atom's bytes, and remember them."""
    if len(value) > MAX_ATOM:
        raise EtfError(f"an atom has more than {MAX_ATOM} characters", len(parts))
    text = value.encode()
    size = len(text)
    written = (_u8(119, size) if size < 256 else bytes((118, size >> 8, size & 255))) + text
    if len(ATOMS) < MAX_CACHED:
        ATOMS[value] = written
    else:
        count_long(size, parts, limits)
    return written


def _integer(value: int, parts: Parts, limits: Limits) -> bytes:
    if 0 <= value < 256:
        return SMALL_INTEGERS[value]
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return _i32(98, value)
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) // 8
    if size > limits.max_size:
        raise EtfError(f"an integer has {size} bytes, more than {limits.max_size}", len(parts))
    if size > MAX_SHORT:
        count_long(size, parts, limits)
    sign = 1 if value < 0 else 0
    head = bytes((110, size, sign)) if size < 256 else _u32_u8(111, size, sign)
    return head + magnitude.to_bytes(size, "little")


def _other(value: Term, parts: Parts, limits: Limits) -> tuple[int, Iterable[Term]]:
    """Write a rarer value, or its head: then how many terms follow, and which."""
    add = parts.append
    if isinstance(value, Opaque):
        if isinstance(value, LocalTerm):
            raise EtfError("a LocalTerm is a whole term, not a part of one", len(parts))
        count_long(len(value.raw), parts, limits)
        add(value.raw)
        return 0, ()
    if isinstance(value, ImproperList):
        if not value.items:
            raise EtfError("an ImproperList has an element before its tail", len(parts))
        add(_u32(108, len(value.items)))
        return len(value.items) + 1, chain(value.items, (value.tail,))
    if isinstance(value, Map):
        add(_u32(116, len(value)))
        return 2 * len(value), chain.from_iterable(value.pairs)
    if isinstance(value, BitString):
        count_long(len(value.data), parts, limits)
        add(_u32_u8(77, len(value.data), value.bits))
        add(value.data)
        return 0, ()
    if isinstance(value, NativeRecord):
        names = (value.module, value.name, *value.fields)
        add(_u32_u8(67, len(value.values), value.flags))
        return len(names) + len(value.values), chain(map(Atom, names), value.values)
    for base, convert in _BASES:
        if isinstance(value, base):
            return 1, (convert(value),)
    raise EtfError(f"Erlang has no term for a {type(value).__qualname__}", len(parts))


#: What a value of a subclass is written as. The conversions are of the base type itself, so that a
#: subclass's own methods have no say.
_BASES: tuple[tuple[type, Callable[[Term], Term]], ...] = (
    (Atom, lambda value: Atom(str.__str__(value))),
    (str, lambda value: str.__str__(value)),
    (bytes, lambda value: bytes(memoryview(value))),
    (bytearray, lambda value: bytes(memoryview(value))),
    (memoryview, bytes),
    (int, lambda value: int.__int__(value)),
    (float, lambda value: float.__float__(value)),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (list, lambda value: list(list.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
)


def refuse_twins(value: dict[Term, Term], parts: Parts, limits: Limits) -> None:
    """Refuse keys that are two in Python and one in Erlang: "a" and b"a", None and "undefined"."""
    kinds = set(map(type, value))
    if not (kinds <= _APART or kinds == {str}):
        _refuse_twins(value, parts, limits)


def _refuse_twins(keys: Collection[Term], parts: Parts, limits: Limits) -> None:
    if has_twins(keys, limits):
        raise EtfError("two keys of a map are one key in Erlang", len(parts))


def has_twins(keys: Collection[Term], limits: Limits) -> bool:
    """Whether two of a map's keys are written alike, so that Erlang would find one key twice.

    A key that is nested deeply is not compared.
    """
    if len(keys) < 2:
        return False
    limits = limits._replace(max_depth=min(limits.max_depth, _COMPARED_DEPTH))
    written: set[bytes | int] = set()
    terms = size = 0
    for number, key in enumerate(keys):
        parts = Parts()
        try:
            write_deep(key, parts, limits, compare=False)
            own = b"".join(parts)
            size += len(own)
            written.add(own)
        except EtfError:
            # Too deep; what else is wrong is said when it is written.
            written.add(number)
        terms += len(parts)
        if terms > 2 * limits.max_terms:
            too_many(parts, limits)
        if size > limits.max_size:
            raise EtfError(f"the keys of a map have more than {limits.max_size} bytes", number)
    return len(written) != len(keys)
