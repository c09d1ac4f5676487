"""Erlang's terms that Python has no type for.

Atoms, improper lists, bitstrings, maps that a dict cannot hold, and the values that only their node
can read, which are kept as the bytes they came as.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

#: What `decode` returns and `encode` takes. A union of all types would have to be narrowed at every
#: use of a term whose shape the protocol already says.
Term: TypeAlias = Any


class Atom(str):
    """An atom: a string, equal to a `str` of the same text.

    `true` and `false` decode to `bool` and `undefined` to `None`; `Atom("true")` encodes as `true`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"


class ImproperList:
    """A list whose last tail is not a list, as `[a, b | c]`.

    Attributes:
        items: The elements before the tail, at least one.
        tail: The tail, which is not a list.
    """

    __slots__ = ("items", "tail")
    __hash__ = None  # type: ignore[assignment]  # mutable, as a list is

    def __init__(self, items: list[Term], tail: Term) -> None:
        self.items = items
        self.tail = tail

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImproperList):
            return NotImplemented
        return self.items == other.items and bool(self.tail == other.tail)

    def __repr__(self) -> str:
        return f"ImproperList({self.items!r}, {self.tail!r})"


@dataclass(frozen=True, slots=True)
class BitString:
    """A bitstring whose length is not a whole number of bytes.

    Attributes:
        data: The bytes, the last filled from its most significant bit; bits not in use are 0.
        bits: How many bits of the last byte are in use, 1 to 7.
    """

    data: bytes
    bits: int

    def __post_init__(self) -> None:
        if not self.data or not 1 <= self.bits <= 7:
            raise ValueError("a BitString has at least one byte, of which 1 to 7 bits are in use")
        last = self.data[-1] & (0xFF << (8 - self.bits) & 0xFF)
        if last != self.data[-1]:
            object.__setattr__(self, "data", self.data[:-1] + bytes((last,)))

    def __len__(self) -> int:
        return len(self.data) * 8 - 8 + self.bits


class Map:
    """A map that a dict cannot hold without loss.

    Its keys are equal in Python though not in Erlang (1, 1.0 and true; 0.0 and -0.0), or cannot be
    hashed (lists, maps), or are nested too deeply to be hashed safely.

    Two are equal when they have the same keys as Erlang sees them (a key that is itself a map, with
    its pairs in the same order) with values that Python finds equal.

    Attributes:
        pairs: The keys and values, in the order they came.
    """

    __slots__ = ("pairs",)
    __hash__ = None  # type: ignore[assignment]  # a dict has none either

    def __init__(self, pairs: tuple[tuple[Term, Term], ...]) -> None:
        self.pairs = pairs

    def __iter__(self) -> Iterator[Term]:
        return (key for key, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Map):
            return NotImplemented
        mine, theirs = self._by_key(), other._by_key()
        return mine.keys() == theirs.keys() and all(
            value == theirs[key] for key, value in mine.items()
        )

    def _by_key(self) -> dict[bytes, Term]:
        # 1 == 1.0 in Python: only what is written tells keys apart as Erlang does.
        from erlang_port.etf.encode import encode

        return {encode(key): value for key, value in self.pairs}

    def __repr__(self) -> str:
        return f"Map({self.pairs!r})"


@dataclass(frozen=True, slots=True)
class NativeRecord:
    """A native record of OTP 29 (tag 67), kept to be sent back.

    Attributes:
        flags: The flag byte as it came.
        module: The module that defines the record.
        name: The record's name.
        fields: The fields' names.
        values: The fields' values, as many.
    """

    flags: int
    module: Atom
    name: Atom
    fields: tuple[Atom, ...]
    values: tuple[Term, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.flags <= 255 or len(self.fields) != len(self.values):
            raise ValueError("a NativeRecord has a byte of flags, and a name for each value")


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that only its node can read: equal when its bytes are, sent back as it came.

    Attributes:
        raw: The value's bytes, its tag included.
    """

    raw: bytes


class Pid(Opaque):
    """A process identifier (tags 88 and 103)."""

    __slots__ = ()


class Port(Opaque):
    """A port identifier (tags 89, 102 and 120)."""

    __slots__ = ()


class Reference(Opaque):
    """A reference (tags 90, 101 and 114)."""

    __slots__ = ()


class Fun(Opaque):
    """A fun with its environment (tag 112)."""

    __slots__ = ()


class Export(Opaque):
    """An external fun, `fun M:F/A` (tag 113)."""

    __slots__ = ()


class LocalTerm(Opaque):
    """A term that `term_to_binary/2` wrote with the option `local` (tag 121).

    It is a whole message: the format gives it no length, so it ends where the input does. One that
    came compressed is sent back as it was before that.
    """

    __slots__ = ()
