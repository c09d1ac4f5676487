import enum
from typing import NamedTuple

import pytest

from erlang_port.etf import Atom, EtfError, ImproperList, Limits, Map, decode, encode

V = b"\x83"


class Colour(enum.IntEnum):
    RED = 300


class Point(NamedTuple):
    x: int
    y: int


class Name(str):
    __slots__ = ()

    def __str__(self):
        return "somebody else"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"w\x09undefined"),
        (True, b"w\x04true"),
        (False, b"w\x05false"),
        (Atom("true"), b"w\x04true"),
        (Atom("ok"), b"w\x02ok"),
        (Atom("é" * 200), b"v\x01\x90" + "é".encode() * 200),
        ("é", b"m\x00\x00\x00\x02\xc3\xa9"),
        (bytearray(b"x"), b"m\x00\x00\x00\x01x"),
        (memoryview(b"x"), b"m\x00\x00\x00\x01x"),
        (0, b"a\x00"),
        (255, b"a\xff"),
        (256, b"b\x00\x00\x01\x00"),
        (-1, b"b\xff\xff\xff\xff"),
        (-(1 << 31), b"b\x80\x00\x00\x00"),
        (1 << 31, b"n\x04\x00\x00\x00\x00\x80"),
        (-0.0, b"F\x80" + bytes(7)),
        ([], b"j"),
        ((), b"h\x00"),
        ({}, b"t\x00\x00\x00\x00"),
        (Colour.RED, b"b\x00\x00\x01\x2c"),
        (Point(1, 2), b"h\x02a\x01a\x02"),
        (Name("me"), b"m\x00\x00\x00\x02me"),
    ],
)
def test_each_kind(value, data):
    assert encode(value) == V + data
    assert encode([value]) == V + b"l\x00\x00\x00\x01" + data + b"j"
    # Nested beyond what is written by recursion.
    for _ in range(40):
        value = (value,)
    assert encode(value) == V + b"h\x01" * 40 + data


class Hostile:
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "infinite or no number"),
        (float("inf"), "infinite or no number"),
        (object(), "no term for a object"),
        (Hostile(), "no term for a Hostile"),
        ({1, 2}, "no term for a set"),
        (1j, "no term for a complex"),
        ("\ud800", "cannot be written"),
        (Atom("\ud800"), "cannot be written"),
        (Atom("x" * 256), "more than 255 characters"),
        ({"a": 1, b"a": 2}, "one key in Erlang"),
        ({None: 1, Atom("undefined"): 2}, "one key in Erlang"),
        ({True: 1, Atom("true"): 2}, "one key in Erlang"),
        ({("a",): 1, (b"a",): 2}, "one key in Erlang"),
        ({(None,): 1, (Atom("undefined"),): 2}, "one key in Erlang"),
        ({Name("a"): 1, b"a": 2}, "one key in Erlang"),
        ({Colour.RED: 1, 300.0: 2, "é": 3, "é".encode(): 4}, "one key in Erlang"),
        (Map(((1, b"a"), (1, b"b"))), "one key in Erlang"),
        (Map((([], b"a"), ([], b"b"))), "one key in Erlang"),
        (ImproperList([], 1), "element before its tail"),
    ],
)
def test_what_erlang_has_no_term_for(value, reason):
    with pytest.raises(EtfError, match=reason):
        encode(value)
    with pytest.raises(EtfError, match=reason):
        encode([[(value,)]])


def test_limits():
    assert encode([1] * 10, limits=Limits(max_size=27))
    with pytest.raises(EtfError, match="more than 26"):
        encode([1] * 10, limits=Limits(max_size=26))
    for value in (
        [1] * 10,
        (1,) * 10,
        dict.fromkeys(range(10)),
        Map(tuple((n, b"v") for n in range(9))),
    ):
        with pytest.raises(EtfError, match="more than 4 terms"):
            encode(value, limits=Limits(max_terms=4))
        with pytest.raises(EtfError, match="more than 4 terms"):
            encode(value, limits=Limits(max_terms=4, max_depth=32))
    for limit in (5, 50):
        value = []
        for _ in range(limit - 1):
            value = [value]
        encode(value, limits=Limits(max_depth=limit))
        with pytest.raises(EtfError, match=f"nested more than {limit - 2} deep"):
            encode(value, limits=Limits(max_depth=limit - 2))


def test_a_map_keeps_its_pairs():
    pairs = Map(((1, b"a"), (1.0, b"b"), ([], b"c")))
    assert decode(encode(pairs)) == pairs


def test_pairs_of_binaries():
    for first in (b"", b"k", b"k" * 255, b"k" * 256):
        for second in (b"", b"v" * 255, b"v" * 256, b"v" * 70_000):
            pair = (first, second)
            head = [V + b"h\x02"]
            head += [b"m" + len(part).to_bytes(4, "big") + part for part in pair]
            assert encode(pair) == b"".join(head)
            assert decode(encode([pair, pair])) == [pair, pair]
