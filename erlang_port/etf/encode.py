"""A term to bytes, in one loop with a stack of iterators."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from struct import Struct

from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import DEFAULT, Limits
from erlang_port.etf.scalars import MAX_ATOM
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
_bits = Struct(">BIB").pack
_record = Struct(">BIB").pack

_SMALL = [bytes((97, value)) for value in range(256)]
_TUPLES = [bytes((104, size)) for size in range(256)]
_FALSE, _TRUE, _UNDEFINED = b"w\x05false", b"w\x04true", b"w\tundefined"


class _End:
    """What stands after a list's elements: the empty list as its tail."""

    __slots__ = ()


_END = _End()

#: The bytes of atoms written so far, bounded.
_atoms: dict[Atom, bytes] = {}
_MAX_ATOMS = 4096


def encode(term: Term, *, limits: Limits = DEFAULT) -> bytes:
    """Encode one term, with its version byte.

    A `str` that is no `Atom` is written as a UTF-8 binary; an int, str, tuple, list or dict of a
    subclass as what it derives from.

    Args:
        term: The term.
        limits: What it may cost; `max_decompressed` is not used.

    Raises:
        EtfError: A value that Erlang has no term for, or the term is beyond the limits.
    """
    if type(term) is LocalTerm:
        return b"\x83" + term.raw
    parts = [b"\x83"]
    try:
        _write(term, parts, limits)
        size = sum(map(len, parts))
    except MemoryError:
        raise EtfError("the term needs more memory than there is", len(parts)) from None
    except (RuntimeError, UnicodeEncodeError) as error:
        # A dict or list that another thread changes meanwhile, or a str with a lone surrogate.
        raise EtfError(f"the term cannot be written: {error}", len(parts)) from None
    if size > limits.max_size:
        raise EtfError(f"the term has {size} bytes, more than {limits.max_size}", len(parts))
    return b"".join(parts)


def _write(term: Term, parts: list[bytes], limits: Limits) -> None:  # noqa: C901  # one loop: speed
    add = parts.append
    head = _u32
    atoms = _atoms
    small = _SMALL
    max_depth = limits.max_depth
    left = limits.max_terms - 1
    stack: list[Iterator[Term]] = []
    todo: Iterator[Term] = iter((term,))
    while True:
        for value in todo:
            kind = type(value)
            if kind is bytes:
                add(head(109, len(value)))
                add(value)
                continue
            if kind is Atom:
                try:
                    add(atoms[value])
                except KeyError:
                    add(_atom(value, parts))
                continue
            if kind is tuple:
                size = len(value)
                add(_TUPLES[size] if size < 256 else head(105, size))
                inner: Iterator[Term] = iter(value)
                # A tuple often holds nothing but binaries and atoms.
                for item in inner:
                    kind = type(item)
                    if kind is bytes:
                        add(head(109, len(item)))
                        add(item)
                    elif kind is Atom and item in atoms:
                        add(atoms[item])
                    else:
                        inner = chain((item,), inner)
                        break
                else:
                    left -= size
                    continue
            elif kind is list:
                if not value:
                    add(b"j")
                    continue
                size = len(value)
                add(head(108, size))
                inner = chain(value, (_END,))
            elif kind is int:
                if 0 <= value < 256:
                    add(small[value])
                elif -0x80000000 <= value <= 0x7FFFFFFF:
                    add(_i32(98, value))
                else:
                    add(_big(value, parts, limits))
                continue
            elif kind is str:
                text = value.encode()
                add(head(109, len(text)))
                add(text)
                continue
            elif kind is _End:
                add(b"j")
                continue
            elif value is None:
                add(_UNDEFINED)
                continue
            elif kind is bool:
                add(_TRUE if value else _FALSE)
                continue
            elif kind is dict:
                size = len(value) * 2
                add(head(116, len(value)))
                if len(set(map(type, value))) > 1:
                    _refuse_twins(value, parts, limits)
                inner = chain.from_iterable(value.items())
            elif kind is float:
                if value - value != 0.0:
                    raise EtfError("Erlang has no float that is infinite or no number", len(parts))
                add(_f64(70, value))
                continue
            else:
                size, rest = _other(value, parts)
                if not size:
                    continue
                inner = iter(rest)
            left -= size
            if left < 0:
                raise EtfError(f"more than {limits.max_terms} terms", len(parts))
            if len(stack) >= max_depth:
                raise EtfError(f"nested more than {max_depth} deep", len(parts))
            stack.append(todo)
            todo = inner
            break
        else:
            if not stack:
                return
            todo = stack.pop()


def _atom(value: Atom, parts: list[bytes]) -> bytes:
    if len(value) > MAX_ATOM:
        raise EtfError(f"an atom has more than {MAX_ATOM} characters", len(parts))
    text = value.encode()
    size = len(text)
    written = (_u8(119, size) if size < 256 else bytes((118, size >> 8, size & 255))) + text
    if len(_atoms) < _MAX_ATOMS:
        _atoms[value] = written
    return written


def _big(value: int, parts: list[bytes], limits: Limits) -> bytes:
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) // 8
    if size > limits.max_size:
        raise EtfError(f"an integer has {size} bytes, more than {limits.max_size}", len(parts))
    sign = 1 if value < 0 else 0
    head = bytes((110, size, sign)) if size < 256 else _bits(111, size, sign)
    return head + magnitude.to_bytes(size, "little")


def _other(value: Term, parts: list[bytes]) -> tuple[int, Iterable[Term]]:
    """Write a rarer value, or its head: then the terms that follow and how many they are."""
    add = parts.append
    if isinstance(value, Opaque):
        if isinstance(value, LocalTerm):
            raise EtfError("a LocalTerm is a whole term, not a part of one", len(parts))
        add(value.raw)
        return 0, ()
    if isinstance(value, ImproperList):
        add(_u32(108, len(value.items)))
        return len(value.items) + 1, chain(value.items, (value.tail,))
    if isinstance(value, Map):
        add(_u32(116, len(value)))
        return 2 * len(value), chain.from_iterable(value.pairs)
    if isinstance(value, BitString):
        add(_bits(77, len(value.data), value.bits))
        add(value.data)
        return 0, ()
    if isinstance(value, NativeRecord):
        names = (value.module, value.name, *value.fields)
        add(_record(67, len(value.values), value.flags))
        return len(names) + len(value.values), chain(map(Atom, names), value.values)
    if isinstance(value, bytearray | memoryview):
        data = bytes(value)
        add(_u32(109, len(data)))
        add(data)
        return 0, ()
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
    (int, lambda value: int.__int__(value)),
    (float, lambda value: float.__float__(value)),
    (tuple, lambda value: tuple(value)),
    (list, lambda value: list(value)),
    (dict, lambda value: dict(value)),
)


def _refuse_twins(value: dict[Term, Term], parts: list[bytes], limits: Limits) -> None:
    # Keys that differ in Python and not in Erlang, as "a" and b"a", or None and Atom("undefined").
    if len({encode(key, limits=limits) for key in value}) != len(value):
        raise EtfError("two keys of a dict are one key in Erlang", len(parts))
